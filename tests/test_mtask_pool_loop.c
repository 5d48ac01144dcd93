/* test_mtask_pool_loop.c - loops and reductions over index ranges */
#include "testing_pool.h"

/* ---- helpers ---- */

/* A range of indices, and how often each was done. */
typedef struct range {
    size_t begin;
    size_t end;
    size_t most; /* indices in one call; 0: any number */
    unsigned char *marks;
} range;

static void range_make(range *self, size_t begin, size_t count, size_t most) {
    self->begin = begin;
    self->end = begin + count;
    self->most = most;
    self->marks = (unsigned char *)calloc(count + 1, 1);
    testing_check(self->marks != NULL);
}

static void mark(size_t begin, size_t end, void *ctx) {
    const range *self = (const range *)ctx;
    testing_check(self->begin <= begin && begin < end && end <= self->end);
    testing_check(self->most == 0 || end - begin <= self->most);
    for (size_t i = begin; i < end; i++)
        __atomic_fetch_add(&self->marks[i - self->begin], 1, __ATOMIC_RELAXED);
}

/* Fails unless each index was done once; frees the range. */
static void range_check(range *self) {
    for (size_t i = 0; i < self->end - self->begin; i++)
        testing_check(self->marks[i] == 1);
    free(self->marks);
}

static void loop_over(mtask_pool *pool, size_t begin, size_t count, size_t grain) {
    range self;
    mtask_word progress = 0;
    mtask_outcome outcome;
    mtask_for_desc loop = {.grain = grain, .body = mark, .ctx = &self};
    range_make(&self, begin, count, grain);
    loop.begin = self.begin;
    loop.end = self.end;
    loop.progress = &progress;
    ck_assert_status(mtask_pool_for_ex(pool, &loop, &outcome), MTASK_OK);
    testing_check(mtask_word_load(&progress) == (mtask_word)count);
    range_check(&self);
}

/* The short form. */
static void loop_shortly(mtask_pool *pool, size_t begin, size_t count) {
    range self;
    range_make(&self, begin, count, 0);
    ck_assert_status(mtask_pool_for(pool, self.begin, self.end, mark, &self), MTASK_OK);
    range_check(&self);
}

/* ---- each index once ---- */

static const size_t counts[] = {0, 1, 2, 3, 7, 63, 64, 65, 500, 4097};
static const size_t grains[] = {0, 1, 2, 7, 64, 5000, SIZE_MAX};

#define COUNTS (sizeof counts / sizeof *counts)
#define GRAINS (sizeof grains / sizeof *grains)

static void *loop_over_all(void *arg) {
    for (size_t i = 0; i < COUNTS; i++) {
        for (size_t k = 0; k < GRAINS; k++)
            loop_over((mtask_pool *)arg, k % 2 == 0 ? 0 : 1000, counts[i], grains[k]);
        loop_shortly((mtask_pool *)arg, i, counts[i]);
    }
    return arg;
}

START_TEST(each_index_is_done_once) {
    for (unsigned workers = 1; workers <= 8; workers += workers < 3 ? 1 : 5) {
        mtask_pool *pool = open_pool(workers);
        (void)loop_over_all(pool);
        end_pool(pool);
    }
}
END_TEST

START_TEST(a_range_may_lie_at_the_end_of_all_numbers) {
    mtask_pool *pool = open_pool(3);
    for (size_t k = 0; k < GRAINS; k++) {
        loop_over(pool, SIZE_MAX - 1000, 1000, grains[k]);
        loop_over(pool, SIZE_MAX - 1, 1, grains[k]);
        loop_over(pool, SIZE_MAX / 2 - 50, 100, grains[k]);
    }
    end_pool(pool);
}
END_TEST

/* The parts are at most the 64th part of a worker's share. */
START_TEST(a_loop_is_cut_into_small_parts_by_default) {
    static const struct {
        unsigned workers;
        size_t count, most;
    } cases[] = {{1, 640, 10}, {2, 6400, 50}, {2, 100, 1}, {4, 25600, 100}, {3, 5, 1}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        mtask_pool *pool = open_pool(cases[i].workers);
        range self;
        range_make(&self, 0, cases[i].count, cases[i].most);
        ck_assert_status(mtask_pool_for(pool, 0, self.end, mark, &self), MTASK_OK);
        range_check(&self);
        end_pool(pool);
    }
}
END_TEST

static void never(size_t begin, size_t end, void *ctx) {
    (void)begin;
    (void)end;
    (void)ctx;
    testing_check(false);
}

START_TEST(an_empty_range_is_done_at_once) {
    mtask_pool *pool = open_pool(2);
    mtask_for_desc loop = {.body = never};
    ck_assert_status(mtask_pool_for_ex(pool, &loop, NULL), MTASK_OK);
    loop.begin = loop.end = SIZE_MAX;
    ck_assert_status(mtask_pool_for_ex(pool, &loop, NULL), MTASK_OK);
    ck_assert_status(mtask_pool_for(pool, 7, 7, never, NULL), MTASK_OK);
    end_pool(pool);
}
END_TEST

START_TEST(a_loop_needs_a_body) {
    mtask_pool *pool = open_pool(2);
    mtask_for_desc loop = {.end = 10};
    ck_assert_status(mtask_pool_for_ex(pool, &loop, NULL), MTASK_INVALID);
    ck_assert_status(mtask_pool_for(pool, 0, 10, NULL, NULL), MTASK_INVALID);
    ck_assert_status(mtask_pool_for(pool, 0, 0, NULL, NULL), MTASK_INVALID);
    end_pool(pool);
}
END_TEST

/* The threads that have run a part of some loop. */
typedef struct roll {
    pthread_mutex_t lock;
    unsigned count;
    int64_t tids[8];
} roll;

static void call_the_roll(size_t begin, size_t end, void *ctx) {
    roll *self = (roll *)ctx;
    int64_t tid = syscall(SYS_gettid);
    unsigned i = 0;
    testing_check(end - begin == 1);
    testing_check(pthread_mutex_lock(&self->lock) == 0);
    while (i < self->count && self->tids[i] != tid)
        i++;
    testing_check(i < 8);
    self->tids[i] = tid;
    self->count = i == self->count ? i + 1 : self->count;
    testing_check(pthread_mutex_unlock(&self->lock) == 0);
    testing_pause(1); /* time for the others to come */
}

/* Loops until all workers have taken part; if one never does, this hangs. */
static void *loop_until_all_came(void *arg) {
    mtask_pool *pool = (mtask_pool *)arg;
    unsigned workers = mtask_pool_workers(pool);
    roll self = {.lock = PTHREAD_MUTEX_INITIALIZER};
    mtask_for_desc loop = {.end = 2 * workers, .grain = 1, .body = call_the_roll, .ctx = &self};
    while (self.count < workers)
        ck_assert_status(mtask_pool_for_ex(pool, &loop, NULL), MTASK_OK);
    testing_check(self.count == workers); /* and nobody else */
    return arg;
}

START_TEST(all_workers_take_part) {
    for (unsigned workers = 1; workers <= 6; workers++) {
        mtask_pool *pool = open_pool(workers);
        (void)loop_until_all_came(pool);
        run_task(pool, loop_until_all_came, pool); /* there the caller is one of them */
        end_pool(pool);
    }
}
END_TEST

/* What progress may say: never more than is done, and, before the end, something. */
typedef struct witness {
    mtask_word progress;
    mtask_word done;
    mtask_word steps; /* how often it was seen to be neither nothing nor all */
    mtask_word count;
} witness;

static void watch_progress(size_t begin, size_t end, void *ctx) {
    witness *self = (witness *)ctx;
    mtask_word progress = mtask_word_load(&self->progress);
    testing_check(progress <= mtask_word_load(&self->done));
    if (progress > 0 && progress < self->count)
        mtask_word_add(&self->steps, 1);
    mtask_word_add(&self->done, (mtask_word)(end - begin));
}

START_TEST(progress_can_be_read_while_it_runs) {
    for (unsigned workers = 1; workers <= 3; workers++) {
        mtask_pool *pool = open_pool(workers);
        witness self = {0, 0, 0, 100};
        mtask_for_desc loop = {.end = 100, .grain = 1, .body = watch_progress, .ctx = &self};
        loop.progress = &self.progress;
        ck_assert_status(mtask_pool_for_ex(pool, &loop, NULL), MTASK_OK);
        ck_assert_uint_eq(self.progress, 100);
        ck_assert_uint_ge(self.steps, 100 - 2 * workers); /* others count a little later */
        end_pool(pool);
    }
}
END_TEST

START_TEST(several_loops_may_count_into_one_word) {
    mtask_pool *pool = open_pool(2);
    witness self = {0, 0, 0, 100};
    mtask_word progress = (mtask_word)-150; /* and wraps around */
    mtask_for_desc loop = {.end = 100, .body = watch_progress, .ctx = &self};
    loop.progress = &progress;
    for (int i = 0; i < 3; i++)
        ck_assert_status(mtask_pool_for_ex(pool, &loop, NULL), MTASK_OK);
    ck_assert_uint_eq(progress, 150);
    end_pool(pool);
}
END_TEST

/* ---- where it is called ---- */

static void *loop_on(void *arg) {
    mtask_pool *pool = (mtask_pool *)arg;
    for (size_t k = 0; k < GRAINS; k++)
        loop_over(pool, 5, 300, grains[k]);
    loop_shortly(pool, 0, 300);
    return arg;
}

START_TEST(a_loop_works_on_the_default_pool) {
    (void)loop_on(NULL);
}
END_TEST

START_TEST(a_task_may_loop_on_its_own_pool) {
    for (unsigned workers = 1; workers <= 3; workers++) {
        mtask_pool *pool = open_pool(workers);
        run_task(pool, loop_over_all, pool);
        end_pool(pool);
    }
}
END_TEST

START_TEST(a_task_may_loop_on_another_pool) {
    mtask_pool *pool = open_pool(1), *other = open_pool(2);
    run_task(pool, loop_on, other);
    run_task(other, loop_on, pool);
    run_task(pool, loop_on, NULL);
    run_task(NULL, loop_on, pool);
    end_pool(pool);
    end_pool(other);
}
END_TEST

/* Loops in loops in loops, in turns on two pools. */
typedef struct nest {
    mtask_pool *pools[2];
    int depth;
    mtask_word leaves;
} nest;

typedef struct nest_level {
    nest *nest;
    int level;
} nest_level;

static void descend(size_t begin, size_t end, void *ctx) {
    const nest_level *self = (const nest_level *)ctx;
    nest_level below = {self->nest, self->level + 1};
    for (size_t i = begin; i < end; i++) {
        if (self->level == self->nest->depth)
            mtask_word_add(&self->nest->leaves, 1);
        else
            ck_assert_status(
                mtask_pool_for(self->nest->pools[self->level % 2], 0, 5, descend, &below),
                MTASK_OK);
    }
}

static void check_nest(mtask_pool *even, mtask_pool *odd) {
    nest self = {{even, odd}, 4, 0};
    nest_level top = {&self, 0};
    descend(0, 1, &top);
    ck_assert_uint_eq(self.leaves, 625);
}

START_TEST(loops_may_be_nested) {
    for (unsigned workers = 1; workers <= 4; workers++) {
        mtask_pool *pool = open_pool(workers);
        check_nest(pool, pool);
        end_pool(pool);
    }
}
END_TEST

START_TEST(loops_may_be_nested_in_turns_on_two_pools) {
    for (unsigned workers = 1; workers <= 2; workers++) {
        mtask_pool *pool = open_pool(workers), *other = open_pool(1);
        check_nest(pool, other);
        check_nest(other, pool);
        end_pool(pool);
        end_pool(other);
    }
}
END_TEST

START_TEST(a_closed_pool_runs_no_loop_from_outside) {
    mtask_pool *pool = open_pool(2);
    mtask_for_desc loop = {.end = 100, .body = never};
    ck_assert_status(mtask_pool_close(pool), MTASK_OK);
    ck_assert_status(mtask_pool_for_ex(pool, &loop, NULL), MTASK_CLOSED);
    ck_assert_status(mtask_pool_for(pool, 0, 100, never, NULL), MTASK_CLOSED);
    end_pool(pool);
}
END_TEST

static void end_in_the_middle(size_t begin, size_t end, void *ctx) {
    testing_check(end == begin + 1);
    if (begin == 30)
        ck_assert_status(mtask_pool_terminate(mtask_pool_current()), MTASK_OK);
    mtask_word_add((mtask_word *)ctx, 1);
}

START_TEST(a_loop_in_a_terminated_pool_ends) {
    for (unsigned workers = 1; workers <= 3; workers++) {
        mtask_pool *pool = open_pool(workers);
        mtask_word *done = (mtask_word *)calloc(1, sizeof *done); /* a late access is caught */
        mtask_for_desc loop = {.end = 100, .grain = 1, .body = end_in_the_middle};
        mtask_status status;
        testing_check(done != NULL);
        loop.ctx = done;
        status = mtask_pool_for_ex(pool, &loop, NULL);
        testing_check(status == MTASK_OK || status == MTASK_CANCELED);
        testing_check(status != MTASK_OK || mtask_word_load(done) == 100);
        free(done);
        end_pool(pool);
    }
}
END_TEST

/* ---- failures ---- */

typedef struct failing {
    size_t from; /* all indices from here on fail */
    mtask_word calls;
} failing;

static void fail_from(size_t begin, size_t end, void *ctx) {
    failing *self = (failing *)ctx;
    mtask_word_add(&self->calls, 1);
    if (end > self->from)
        (void)mtask_fail(MTASK_NOT_FOUND, "index %zu", begin > self->from ? begin : self->from);
}

static mtask_status loop_failing(mtask_pool *pool, failing *self, size_t count,
                                 mtask_outcome *outcome) {
    mtask_for_desc loop = {.end = count, .grain = 1, .body = fail_from, .ctx = self};
    memset(outcome, 0x5a, sizeof *outcome);
    return mtask_pool_for_ex(pool, &loop, outcome);
}

START_TEST(a_failure_leaves_out_the_rest) {
    mtask_pool *pool = open_pool(1);
    failing self = {0, 0};
    mtask_outcome outcome;
    ck_assert_status(loop_failing(pool, &self, 1000, &outcome), MTASK_FAILED);
    ck_assert_uint_eq(self.calls, 1); /* every one of them fails */
    ck_assert_status(outcome.status, MTASK_NOT_FOUND);
    ck_assert_ptr_null(outcome.value);
    ck_assert(strncmp(outcome.text, "index ", 6) == 0);
    ck_assert_status(mtask_pool_for(pool, 0, 1000, fail_from, &self), MTASK_FAILED);
    end_pool(pool);
}
END_TEST

START_TEST(the_one_that_failed_is_told) {
    for (unsigned workers = 1; workers <= 4; workers++) {
        mtask_pool *pool = open_pool(workers);
        for (size_t from = 1; from < 100; from += 7) {
            failing self = {from, 0};
            mtask_outcome outcome;
            char text[MTASK_TEXT_SIZE];
            ck_assert_status(loop_failing(pool, &self, from + 1, &outcome), MTASK_FAILED);
            snprintf(text, sizeof text, "index %zu", from);
            ck_assert_str_eq(outcome.text, text);
            ck_assert_status(outcome.status, MTASK_NOT_FOUND);
            loop_over(pool, 0, 100, 1); /* nothing of it stays */
        }
        end_pool(pool);
    }
}
END_TEST

/* Two parts that, if they run side by side, both fail, one after the other. Parts must not wait for
   each other; here they do, but not for long. */
typedef struct rivals {
    size_t first; /* in time */
    mtask_event begun[2];
    mtask_event failed;
} rivals;

static void fail_in_turn(size_t begin, size_t end, void *ctx) {
    rivals *self = (rivals *)ctx;
    testing_check(end == begin + 1);
    mtask_event_set(&self->begun[begin]);
    (void)mtask_event_wait(&self->begun[1 - begin], MTASK_MS(20));
    if (begin != self->first)
        (void)mtask_event_wait(&self->failed, MTASK_MS(20));
    (void)mtask_fail(MTASK_CLOSED, "index %zu", begin);
    mtask_event_set(&self->failed);
}

static void *loop_with_rivals(void *arg) {
    int both = 0;
    for (size_t round = 0; both < 6; round++) {
        rivals self;
        mtask_outcome outcome;
        mtask_for_desc loop = {.end = 2, .grain = 1, .body = fail_in_turn, .ctx = &self};
        memset(&self, 0, sizeof self);
        self.first = round % 2;
        ck_assert_status(mtask_pool_for_ex((mtask_pool *)arg, &loop, &outcome), MTASK_FAILED);
        ck_assert_status(outcome.status, MTASK_CLOSED);
        testing_check(strcmp(outcome.text, "index 0") == 0 || !mtask_event_is_set(&self.begun[0]));
        both += mtask_event_is_set(&self.begun[0]) && mtask_event_is_set(&self.begun[1]);
    }
    return arg;
}

START_TEST(the_first_failure_is_the_one_of_the_lowest_index) {
    mtask_pool *pool = open_pool(2);
    (void)loop_with_rivals(pool);
    run_task(pool, loop_with_rivals, pool);
    end_pool(pool);
}
END_TEST

/* Several parts fail at about the same time: of those that were run, the lowest is told. */
typedef struct melee {
    uint64_t seed;
    mtask_word lowest; /* index that failed */
} melee;

static void fail_by_chance(size_t begin, size_t end, void *ctx) {
    melee *self = (melee *)ctx;
    testing_random random = testing_random_make(self->seed, (unsigned)begin);
    mtask_word lowest = mtask_word_load(&self->lowest);
    testing_check(end == begin + 1);
    testing_dawdle(&random, 500);
    if (testing_below(&random, 4) != 0)
        return;
    while (begin < lowest && !mtask_word_cas(&self->lowest, &lowest, (mtask_word)begin)) {
    }
    (void)mtask_fail(MTASK_BROKEN, "index %zu", begin);
}

START_TEST(the_lowest_failure_is_told_whatever_the_order) {
    uint64_t seed = testing_seed();
    mtask_pool *pool = open_pool(3);
    int64_t start = mtask_now();
    for (long round = testing_scale(2000); round > 0 && testing_has_time(start); round--) {
        melee self = {seed + (uint64_t)round * 64, UINT32_MAX};
        mtask_for_desc loop = {.end = 40, .grain = 1, .body = fail_by_chance, .ctx = &self};
        mtask_outcome outcome;
        mtask_status status = mtask_pool_for_ex(pool, &loop, &outcome);
        ck_assert_status(status, self.lowest == UINT32_MAX ? MTASK_OK : MTASK_FAILED);
        if (status == MTASK_FAILED)
            testing_check(strtoul(outcome.text + 6, NULL, 10) == self.lowest);
    }
    end_pool(pool);
}
END_TEST

static void *fail_below(void *arg) {
    failing self = {0, 0};
    mtask_outcome outcome;
    ck_assert_status(loop_failing((mtask_pool *)arg, &self, 10, &outcome), MTASK_FAILED);
    return arg;
}

/* A loop that fails does not fail its caller. */
START_TEST(the_failure_of_a_loop_is_not_that_of_its_task) {
    for (unsigned workers = 1; workers <= 3; workers++) {
        mtask_pool *pool = open_pool(workers);
        run_task(pool, fail_below, pool);
        end_pool(pool);
    }
}
END_TEST

/* Nor is the loop taken for failed when its caller has failed before. */
static void *loop_after_failure(void *arg) {
    mtask_outcome outcome;
    (void)mtask_fail(MTASK_AUTH, "long ago");
    loop_over((mtask_pool *)arg, 0, 100, 1);
    ck_assert_status(mtask_failure(&outcome), MTASK_AUTH);
    testing_check(strcmp(outcome.text, "long ago") == 0);
    return arg;
}

START_TEST(what_its_caller_failed_with_before_stays_apart) {
    for (unsigned workers = 1; workers <= 3; workers++) {
        mtask_pool *pool = open_pool(workers);
        run_task(pool, loop_after_failure, pool);
        (void)loop_after_failure(pool);
        end_pool(pool);
    }
}
END_TEST

/* A body that fails, and then loops itself. */
static void fail_and_loop(size_t begin, size_t end, void *ctx) {
    testing_check(end == begin + 1);
    (void)mtask_fail(MTASK_AUTH, "index %zu", begin);
    loop_over((mtask_pool *)ctx, 0, 50, 1);
}

START_TEST(a_failure_stays_whatever_its_body_does_then) {
    for (unsigned workers = 1; workers <= 3; workers++) {
        mtask_pool *pool = open_pool(workers);
        mtask_for_desc loop = {.end = 1, .grain = 1, .body = fail_and_loop, .ctx = pool};
        mtask_outcome outcome;
        ck_assert_status(mtask_pool_for_ex(pool, &loop, &outcome), MTASK_FAILED);
        ck_assert_status(outcome.status, MTASK_AUTH);
        ck_assert_str_eq(outcome.text, "index 0");
        end_pool(pool);
    }
}
END_TEST

/* ---- reduce: steps that must stay in order ---- */

/* x becomes a * x + b; doing one after the other is associative, but not commutative. */
typedef struct affine {
    uint64_t a, b;
} affine;

static const affine unchanged = {1, 0};

static affine affine_of(size_t index) {
    testing_random random = testing_random_make(index, 0);
    affine step;
    step.a = testing_next(&random) | 1;
    step.b = testing_next(&random);
    return step;
}

static void then_do(affine *self, const affine *later) {
    self->a = later->a * self->a;
    self->b = later->a * self->b + later->b;
}

static void fold_affine(size_t begin, size_t end, void *into, void *ctx) {
    testing_check(begin < end);
    for (size_t i = begin; i < end; i++) {
        affine step = affine_of(i);
        then_do((affine *)into, &step);
    }
    (void)ctx;
}

static void combine_affine(void *into, const void *later, void *ctx) {
    then_do((affine *)into, (const affine *)later);
    (void)ctx;
}

static void reduce_affine(mtask_pool *pool, size_t begin, size_t count, size_t grain) {
    mtask_for_desc loop = {.fold = fold_affine, .combine = combine_affine};
    affine result, expected = unchanged;
    mtask_word progress = 0;
    memset(&result, 0x5a, sizeof result);
    loop.begin = begin;
    loop.end = begin + count;
    loop.grain = grain;
    loop.identity = &unchanged;
    loop.size = sizeof unchanged;
    loop.progress = &progress;
    if (count > 0)
        fold_affine(begin, begin + count, &expected, NULL);
    ck_assert_status(mtask_pool_reduce(pool, &loop, &result, NULL), MTASK_OK);
    testing_check(result.a == expected.a && result.b == expected.b);
    testing_check(mtask_word_load(&progress) == (mtask_word)count);
}

static void *reduce_all(void *arg) {
    for (size_t i = 0; i < COUNTS; i++)
        for (size_t k = 0; k < GRAINS; k++)
            reduce_affine((mtask_pool *)arg, i, counts[i], grains[k]);
    reduce_affine((mtask_pool *)arg, SIZE_MAX - 100, 100, 3);
    return arg;
}

START_TEST(parts_are_combined_in_order) {
    for (unsigned workers = 1; workers <= 8; workers += workers < 3 ? 1 : 5) {
        mtask_pool *pool = open_pool(workers);
        (void)reduce_all(pool);
        run_task(pool, reduce_all, pool);
        end_pool(pool);
    }
    (void)reduce_all(NULL);
}
END_TEST

START_TEST(a_task_may_reduce_on_another_pool) {
    mtask_pool *pool = open_pool(1), *other = open_pool(2);
    run_task(pool, reduce_all, other);
    run_task(other, reduce_all, pool);
    end_pool(pool);
    end_pool(other);
}
END_TEST

/* ---- reduce: what the parts are ---- */

/* The indices that a result stands for; of an odd size that is no power of two. */
typedef struct span {
    size_t begin;
    size_t end; /* equal to begin: none */
    size_t sum;
    char rest[21];
} span;

static const span empty_span = {0, 0, 0, "twenty bytes of text"};

static void check_span(const span *self) {
    testing_check((uintptr_t)self % _Alignof(span) == 0);
    testing_check(strcmp(self->rest, empty_span.rest) == 0);
}

static void fold_span(size_t begin, size_t end, void *into, void *ctx) {
    span *self = (span *)into;
    (void)ctx;
    check_span(self);
    if (self->begin == self->end)
        self->begin = self->end = begin;
    testing_check(self->end == begin && begin < end);
    self->end = end;
    for (size_t i = begin; i < end; i++)
        self->sum += i;
}

static void combine_spans(void *into, const void *later, void *ctx) {
    span *self = (span *)into;
    const span *other = (const span *)later;
    (void)ctx;
    check_span(self);
    check_span(other);
    if (other->begin == other->end)
        return;
    if (self->begin == self->end)
        self->begin = self->end = other->begin;
    testing_check(self->end == other->begin);
    self->end = other->end;
    self->sum += other->sum;
}

static void reduce_spans(mtask_pool *pool, size_t count, size_t grain) {
    mtask_for_desc loop = {.fold = fold_span, .combine = combine_spans};
    span result;
    loop.begin = 3;
    loop.end = 3 + count;
    loop.grain = grain;
    loop.identity = &empty_span;
    loop.size = sizeof result;
    ck_assert_status(mtask_pool_reduce(pool, &loop, &result, NULL), MTASK_OK);
    check_span(&result);
    testing_check(result.end - result.begin == count);
    testing_check(count == 0 || result.begin == 3);
    testing_check(result.sum == count * 3 + count * (count - 1) / 2);
}

START_TEST(each_part_stands_for_neighbouring_indices) {
    for (unsigned workers = 1; workers <= 5; workers += 2) {
        mtask_pool *pool = open_pool(workers);
        for (size_t i = 0; i < COUNTS; i++)
            for (size_t k = 0; k < GRAINS; k++)
                reduce_spans(pool, counts[i], grains[k]);
        end_pool(pool);
    }
}
END_TEST

static void never_fold(size_t begin, size_t end, void *into, void *ctx) {
    (void)into;
    never(begin, end, ctx);
}

static void never_combine(void *into, const void *later, void *ctx) {
    (void)into;
    (void)later;
    never(0, 0, ctx);
}

START_TEST(an_empty_range_gives_the_identity) {
    mtask_pool *pool = open_pool(2);
    mtask_for_desc loop = {.begin = 9, .end = 9, .fold = never_fold, .combine = never_combine};
    span result;
    memset(&result, 0x5a, sizeof result);
    loop.identity = &empty_span;
    loop.size = sizeof result;
    ck_assert_status(mtask_pool_reduce(pool, &loop, &result, NULL), MTASK_OK);
    ck_assert_mem_eq(&result, &empty_span, sizeof result);
    end_pool(pool);
}
END_TEST

START_TEST(a_reduction_needs_all_its_functions_and_an_identity) {
    mtask_pool *pool = open_pool(2);
    span result;
    for (int missing = 0; missing < 3; missing++) {
        mtask_for_desc loop = {.end = 10, .size = sizeof result};
        loop.fold = missing == 0 ? NULL : never_fold;
        loop.combine = missing == 1 ? NULL : never_combine;
        loop.identity = missing == 2 ? NULL : &empty_span;
        ck_assert_status(mtask_pool_reduce(pool, &loop, &result, NULL), MTASK_INVALID);
    }
    end_pool(pool);
}
END_TEST

/* ---- reduce: large results ---- */

enum { PAGE = 4096 };

/* All numbers of a range, written one behind the other. */
typedef struct page {
    size_t length;
    char text[PAGE];
} page;

static const page blank;

static void append(page *self, const char *text, size_t length) {
    testing_check(self->length + length <= PAGE);
    memcpy(self->text + self->length, text, length);
    self->length += length;
}

static void fold_page(size_t begin, size_t end, void *into, void *ctx) {
    (void)ctx;
    for (size_t i = begin; i < end; i++) {
        char number[32];
        append((page *)into, number, (size_t)snprintf(number, sizeof number, "%zu ", i));
    }
}

static void combine_pages(void *into, const void *later, void *ctx) {
    const page *other = (const page *)later;
    append((page *)into, other->text, other->length);
    (void)ctx;
}

START_TEST(strings_come_out_in_order) {
    for (unsigned workers = 1; workers <= 5; workers += 2) {
        mtask_pool *pool = open_pool(workers);
        page expected = blank;
        fold_page(0, 900, &expected, NULL);
        for (size_t k = 0; k < GRAINS; k++) {
            mtask_for_desc loop = {.end = 900, .fold = fold_page, .combine = combine_pages};
            page result;
            loop.grain = grains[k];
            loop.identity = &blank;
            loop.size = sizeof result;
            ck_assert_status(mtask_pool_reduce(pool, &loop, &result, NULL), MTASK_OK);
            ck_assert_uint_eq(result.length, expected.length);
            ck_assert_mem_eq(result.text, expected.text, expected.length);
        }
        end_pool(pool);
    }
}
END_TEST

enum { BUCKETS = 1 << 17 };

static void fold_histogram(size_t begin, size_t end, void *into, void *ctx) {
    (void)ctx;
    for (size_t i = begin; i < end; i++)
        ((uint64_t *)into)[i * 2654435761u % BUCKETS]++;
}

static void combine_histograms(void *into, const void *later, void *ctx) {
    (void)ctx;
    for (size_t i = 0; i < BUCKETS; i++)
        ((uint64_t *)into)[i] += ((const uint64_t *)later)[i];
}

START_TEST(a_result_may_be_a_megabyte) {
    uint64_t *arrays = (uint64_t *)calloc(3 * BUCKETS, sizeof *arrays);
    uint64_t *identity = arrays, *result = arrays + BUCKETS, *expected = result + BUCKETS;
    mtask_for_desc loop = {.end = 100, .grain = 1, .fold = fold_histogram};
    mtask_pool *pool = open_pool(3);
    testing_check(arrays != NULL);
    loop.combine = combine_histograms;
    loop.identity = identity;
    loop.size = BUCKETS * sizeof *result;
    fold_histogram(0, 100, expected, NULL);
    for (int round = 0; round < 3; round++) {
        memset(result, 0x5a, loop.size);
        ck_assert_status(mtask_pool_reduce(pool, &loop, result, NULL), MTASK_OK);
        ck_assert_mem_eq(result, expected, loop.size);
    }
    end_pool(pool);
    free(arrays);
}
END_TEST

/* Results of so many bytes, each of which counts the indices. */
static void fold_bytes(size_t begin, size_t end, void *into, void *ctx) {
    for (size_t i = 0; i < *(const size_t *)ctx; i++)
        ((unsigned char *)into)[i] += (unsigned char)(end - begin);
}

static void combine_bytes(void *into, const void *later, void *ctx) {
    for (size_t i = 0; i < *(const size_t *)ctx; i++)
        ((unsigned char *)into)[i] += ((const unsigned char *)later)[i];
}

static void reduce_bytes(mtask_pool *pool, size_t size) {
    unsigned char *identity = (unsigned char *)calloc(1, size);
    unsigned char *result = (unsigned char *)malloc(size); /* what is written beside is caught */
    mtask_for_desc loop = {.end = 77, .grain = 1, .fold = fold_bytes, .combine = combine_bytes};
    testing_check(identity != NULL && result != NULL);
    loop.identity = identity;
    loop.size = size;
    loop.ctx = &size;
    ck_assert_status(mtask_pool_reduce(pool, &loop, result, NULL), MTASK_OK);
    for (size_t i = 0; i < size; i++)
        testing_check(result[i] == 77);
    free(identity);
    free(result);
}

START_TEST(a_result_may_be_of_any_size) {
    static const size_t sizes[] = {1, 2, 7, 63, 64, 65, 100, 1000, 5000};
    mtask_pool *pool = open_pool(3);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (int round = 0; round < 10; round++)
            reduce_bytes(pool, sizes[i]);
    end_pool(pool);
}
END_TEST

/* ---- reduce: failures ---- */

static void fold_failing(size_t begin, size_t end, void *into, void *ctx) {
    fold_affine(begin, end, into, NULL);
    fail_from(begin, end, ctx);
}

static mtask_status reduce_failing(mtask_pool *pool, failing *self, size_t count,
                                   mtask_outcome *outcome) {
    mtask_for_desc loop = {.end = count, .grain = 1, .fold = fold_failing, .ctx = self};
    affine result;
    loop.combine = combine_affine;
    loop.identity = &unchanged;
    loop.size = sizeof result;
    memset(outcome, 0x5a, sizeof *outcome);
    return mtask_pool_reduce(pool, &loop, &result, outcome);
}

START_TEST(a_reduction_fails_as_a_loop_does) {
    for (unsigned workers = 1; workers <= 3; workers++) {
        mtask_pool *pool = open_pool(workers);
        for (size_t from = 0; from < 50; from += 7) {
            failing self = {from, 0};
            mtask_outcome outcome;
            char text[MTASK_TEXT_SIZE];
            ck_assert_status(reduce_failing(pool, &self, from + 1, &outcome), MTASK_FAILED);
            snprintf(text, sizeof text, "index %zu", from);
            ck_assert_str_eq(outcome.text, text);
            reduce_affine(pool, 0, 100, 1);
        }
        end_pool(pool);
    }
}
END_TEST

START_TEST(a_failure_leaves_out_the_rest_of_a_reduction) {
    mtask_pool *pool = open_pool(1);
    failing self = {0, 0};
    mtask_outcome outcome;
    ck_assert_status(reduce_failing(pool, &self, 1000, &outcome), MTASK_FAILED);
    ck_assert_uint_eq(self.calls, 1);
    end_pool(pool);
}
END_TEST

/* ---- all at once ---- */

typedef struct visitors {
    mtask_pool *pool;
    uint64_t seed;
    int64_t start;
} visitors;

static void visit(mtask_pool *pool, testing_random *random) {
    size_t count = testing_below(random, 300);
    size_t grain = testing_below(random, 20);
    failing failing_loop = {count, 0};
    mtask_outcome outcome;
    switch (testing_below(random, 4)) {
    case 0:
        loop_over(pool, testing_below(random, 100), count, grain);
        break;
    case 1:
        reduce_affine(pool, testing_below(random, 100), count, grain);
        break;
    case 2:
        reduce_spans(pool, count, grain);
        break;
    default:
        ck_assert_status(loop_failing(pool, &failing_loop, count + 1, &outcome), MTASK_FAILED);
    }
}

static void *visit_as_task(void *arg) {
    testing_random random = testing_random_make((uint64_t)(uintptr_t)arg, 0);
    visit(mtask_pool_current(), &random);
    return arg;
}

static void visit_often(testing_member *self) {
    const visitors *play = (const visitors *)self->arg;
    testing_random random = testing_random_make(play->seed, (unsigned)self->index);
    long rounds = testing_scale(2000);
    for (long round = 0; round < rounds && testing_has_time(play->start); round++) {
        if (testing_below(&random, 2) == 0)
            run_task(play->pool, visit_as_task, (void *)(uintptr_t)testing_next(&random));
        else
            visit(play->pool, &random);
    }
}

START_TEST(many_threads_and_tasks_may_loop_at_once) {
    uint64_t seed = testing_seed();
    for (unsigned workers = 1; workers <= 4; workers += 3) {
        visitors play = {open_pool(workers), seed, mtask_now()};
        testing_crowd crowd;
        testing_crowd_start(&crowd, 4, visit_often, &play);
        testing_crowd_join(&crowd);
        end_pool(play.pool);
    }
}
END_TEST

TESTING_MAIN("mtask_pool_loop", each_index_is_done_once, a_range_may_lie_at_the_end_of_all_numbers,
             a_loop_is_cut_into_small_parts_by_default, an_empty_range_is_done_at_once,
             a_loop_needs_a_body, all_workers_take_part, progress_can_be_read_while_it_runs,
             several_loops_may_count_into_one_word, a_loop_works_on_the_default_pool,
             a_task_may_loop_on_its_own_pool, a_task_may_loop_on_another_pool, loops_may_be_nested,
             loops_may_be_nested_in_turns_on_two_pools, a_closed_pool_runs_no_loop_from_outside,
             a_loop_in_a_terminated_pool_ends, a_failure_leaves_out_the_rest,
             the_one_that_failed_is_told, the_first_failure_is_the_one_of_the_lowest_index,
             the_lowest_failure_is_told_whatever_the_order,
             the_failure_of_a_loop_is_not_that_of_its_task,
             what_its_caller_failed_with_before_stays_apart,
             a_failure_stays_whatever_its_body_does_then, parts_are_combined_in_order,
             a_task_may_reduce_on_another_pool, each_part_stands_for_neighbouring_indices,
             an_empty_range_gives_the_identity, a_reduction_needs_all_its_functions_and_an_identity,
             strings_come_out_in_order, a_result_may_be_a_megabyte, a_result_may_be_of_any_size,
             a_reduction_fails_as_a_loop_does, a_failure_leaves_out_the_rest_of_a_reduction,
             many_threads_and_tasks_may_loop_at_once)
