/* test_mtask_pool_imap.c - iterators: imap over an input that is pulled, as_completed over futures */
#include "testing_pool.h"

/* ---- helpers ---- */

#define NO_HOLD ((size_t)-1)
#define ENDLESS ((size_t)-1)

/* An input of the numbers 0, 1 ..., and all that is to be seen of an imap over it. It is on the
   heap, so that whoever touches it after the iterator's end is caught. */
typedef struct source {
    mtask_imap_desc map;
    size_t count;             /* of numbers */
    size_t next;              /* number: not atomic, as it is pulled by one at a time */
    size_t ahead;             /* as the contract rounds it; 0: it is not checked */
    mtask_status end;         /* how the input ends: MTASK_DONE, or a failure */
    const char *why;          /* it fails; NULL: it does not say */
    size_t hold_input;        /* the input of this number waits for */
    size_t hold_item;         /* and so does the item of this one */
    mtask_event go;           /* this */
    uint64_t seed;            /* of short delays in both; 0: none */
    mtask_pool *pool;         /* whose workers call us */
    bool ended;               /* the input has said so */
    mtask_word pulling;       /* 1: somebody is in the input */
    mtask_word pulled;        /* numbers so far */
    mtask_word asked;         /* calls of next so far that have given, or may give, a result */
    mtask_word running;       /* items */
    mtask_word run;           /* items that have ended */
    mtask_word failing_every; /* every so many items fail; 0: none */
} source;

static void delay(const source *self, size_t index, unsigned what) {
    testing_random random = testing_random_make(self->seed + index, what);
    if (self->seed != 0 && testing_below(&random, 4) == 0)
        testing_dawdle(&random, 3000);
}

static mtask_status pull(void *in, void *ctx) {
    source *self = (source *)ctx;
    testing_check(mtask_word_exchange(&self->pulling, 1) == 0);
    testing_check(mtask_pool_current() == self->pool && !self->ended);
    if (self->next == self->hold_input)
        ck_assert_status(mtask_event_wait(&self->go, MTASK_FOREVER), MTASK_OK);
    delay(self, self->next, 0);
    self->ended = self->next == self->count;
    if (!self->ended) {
        *(size_t *)in = self->next++;
        mtask_word_add(&self->pulled, 1);
        testing_check(self->ahead == 0 || mtask_word_load(&self->pulled) <=
                                              mtask_word_load(&self->asked) + self->ahead);
    } else if (self->why != NULL) {
        (void)mtask_fail(self->end, "%s", self->why);
    }
    mtask_word_store(&self->pulling, 0);
    return self->ended ? self->end : MTASK_OK;
}

static bool is_failing(const source *self, size_t index) {
    return self->failing_every != 0 && index % self->failing_every == 1;
}

static void work(const void *in, void *out, void *ctx) {
    source *self = (source *)ctx;
    size_t index = *(const size_t *)in;
    mtask_word_add(&self->running, 1);
    testing_check(mtask_pool_current() == self->pool);
    if (index == self->hold_item)
        ck_assert_status(mtask_event_wait(&self->go, MTASK_FOREVER), MTASK_OK);
    delay(self, index, 1);
    *(size_t *)out = index * index;
    if (is_failing(self, index))
        (void)mtask_fail(MTASK_NOT_FOUND, "item %zu", index);
    mtask_word_add(&self->run, 1);
    mtask_word_add(&self->running, (mtask_word)-1);
}

/* The numbers below `count`. */
static source *source_make(mtask_pool *pool, size_t count) {
    source *self = (source *)calloc(1, sizeof *self);
    testing_check(self != NULL);
    self->map.fn = work;
    self->map.input = pull;
    self->map.ctx = self;
    self->map.in_size = sizeof(size_t);
    self->map.out_size = sizeof(size_t);
    self->count = count;
    self->end = MTASK_DONE;
    self->hold_input = self->hold_item = NO_HOLD;
    self->pool = pool;
    return self;
}

static mtask_imap *source_open(source *self) {
    mtask_imap *imap = NULL;
    ck_assert_status(mtask_pool_imap(self->pool, &self->map, &imap), MTASK_OK);
    return imap;
}

/* Says how many may be pulled ahead, and has it checked. */
static void source_limit(source *self, size_t ahead, size_t chunk) {
    size_t whole = chunk == 0 ? 1 : chunk;
    self->map.ahead = ahead;
    self->map.chunk = chunk;
    self->ahead = ahead == 0 ? 2 * mtask_pool_workers(self->pool) * whole : ahead;
    self->ahead = (self->ahead + whole - 1) / whole * whole;
}

static void check_item(const source *self, const mtask_item *item, mtask_status status) {
    bool fails = is_failing(self, item->index);
    char text[MTASK_TEXT_SIZE] = "";
    if (fails)
        snprintf(text, sizeof text, "item %zu", item->index);
    ck_assert_status(status, fails ? MTASK_FAILED : MTASK_OK);
    ck_assert_status(item->status, fails ? MTASK_NOT_FOUND : MTASK_OK);
    testing_check(item->text != NULL && strcmp(item->text, text) == 0);
    testing_check(item->in != NULL && item->out != NULL);
    testing_check(*(const size_t *)item->in == item->index);
    testing_check(*(const size_t *)item->out == item->index * item->index);
}

/* Takes the next result, which comes without a failure of the input. */
static mtask_item next_item(source *self, mtask_imap *imap) {
    mtask_item item;
    mtask_status status;
    memset(&item, 0x5a, sizeof item);
    mtask_word_add(&self->asked, 1);
    status = mtask_imap_next(imap, &item, MTASK_FOREVER);
    check_item(self, &item, status);
    return item;
}

static void check_done(mtask_imap *imap) {
    mtask_item item;
    for (int i = 0; i < 3; i++)
        ck_assert_status(mtask_imap_next(imap, &item, i == 1 ? MTASK_NOWAIT : MTASK_FOREVER),
                         MTASK_DONE);
}

/* Takes all results; each comes once. */
static void take_all(source *self, mtask_imap *imap) {
    unsigned char *seen = (unsigned char *)calloc(self->count + 1, 1);
    testing_check(seen != NULL);
    for (size_t i = 0; i < self->count; i++) {
        mtask_item item = next_item(self, imap);
        testing_check(item.index < self->count && seen[item.index]++ == 0);
        testing_check(self->map.unordered || item.index == i);
    }
    check_done(imap);
    free(seen);
}

/* Closes the iterator; from then on nobody is in our functions. */
static void source_close(source *self, mtask_imap *imap) {
    mtask_imap_close(imap);
    testing_check(mtask_word_load(&self->running) == 0 && mtask_word_load(&self->pulling) == 0);
    free(self);
}

/* ---- results ---- */

static void iterate(mtask_pool *pool, size_t count, size_t chunk, size_t ahead, bool unordered) {
    source *self = source_make(pool, count);
    mtask_imap *imap;
    source_limit(self, ahead, chunk);
    self->map.unordered = unordered;
    imap = source_open(self);
    take_all(self, imap);
    testing_check(mtask_word_load(&self->run) == count);
    source_close(self, imap);
}

static void iterate_over_all(bool unordered) {
    static const size_t counts[] = {0, 1, 2, 5, 64, 130};
    static const size_t chunks[] = {0, 1, 3, 64, 1000};
    static const size_t aheads[] = {0, 1, 2, 7, 100};
    for (unsigned workers = 1; workers <= 5; workers += 2) {
        mtask_pool *pool = open_pool(workers);
        for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
            for (size_t k = 0; k < sizeof chunks / sizeof *chunks; k++)
                for (size_t n = 0; n < sizeof aheads / sizeof *aheads; n++)
                    iterate(pool, counts[i], chunks[k], aheads[n], unordered);
        end_pool(pool);
    }
}

START_TEST(imap_gives_all_results_in_order) {
    iterate_over_all(false);
}
END_TEST

START_TEST(imap_unordered_gives_each_result_once) {
    iterate_over_all(true);
}
END_TEST

START_TEST(imap_works_on_the_default_pool) {
    mtask_pool *pool;
    source *self;
    mtask_imap *imap = NULL;
    ck_assert_status(mtask_pool_default(&pool), MTASK_OK);
    self = source_make(pool, 100);
    ck_assert_status(mtask_pool_imap(NULL, &self->map, &imap), MTASK_OK);
    take_all(self, imap);
    source_close(self, imap);
}
END_TEST

START_TEST(ordered_results_wait_for_the_one_before) {
    mtask_pool *pool = open_pool(2);
    source *self = source_make(pool, 20);
    mtask_imap *imap;
    mtask_item item;
    source_limit(self, 8, 1);
    self->hold_item = 3;
    imap = source_open(self);
    for (size_t i = 0; i < 3; i++)
        (void)next_item(self, imap);
    await_word(&self->run, 9); /* all but 3 that it has to pull */
    mtask_word_add(&self->asked, 1);
    ck_assert_status(mtask_imap_next(imap, &item, MTASK_MS(3)), MTASK_TIMEOUT);
    mtask_event_set(&self->go);
    ck_assert_status(mtask_imap_next(imap, &item, MTASK_FOREVER), MTASK_OK);
    ck_assert_uint_eq(item.index, 3);
    for (size_t i = 4; i < 20; i++)
        ck_assert_uint_eq(next_item(self, imap).index, i);
    check_done(imap);
    source_close(self, imap);
    end_pool(pool);
}
END_TEST

START_TEST(unordered_results_come_as_they_are_ready) {
    mtask_pool *pool = open_pool(2);
    source *self = source_make(pool, 50);
    mtask_imap *imap = NULL;
    source_limit(self, 6, 1);
    self->hold_item = 3;
    ck_assert(!self->map.unordered);
    ck_assert_status(mtask_pool_imap_unordered(pool, &self->map, &imap), MTASK_OK);
    for (int i = 0; i < 49; i++)
        ck_assert_uint_ne(next_item(self, imap).index, 3);
    ck_assert_uint_eq(mtask_word_load(&self->run), 49);
    mtask_event_set(&self->go);
    ck_assert_uint_eq(next_item(self, imap).index, 3);
    check_done(imap);
    source_close(self, imap);
    end_pool(pool);
}
END_TEST

static void meet(const void *in, void *out, void *ctx) {
    mtask_status status = mtask_barrier_wait((mtask_barrier *)ctx, NULL, MTASK_FOREVER);
    (void)in;
    (void)out;
    testing_check(status == MTASK_OK || mtask_barrier_is_broken((mtask_barrier *)ctx));
}

static mtask_status pull_endless(void *in, void *ctx) {
    (void)in;
    (void)ctx;
    return MTASK_OK;
}

START_TEST(all_workers_take_part) {
    for (unsigned workers = 1; workers <= 5; workers++) {
        mtask_pool *pool = open_pool(workers);
        mtask_barrier barrier;
        mtask_imap_desc map = {.fn = meet, .input = pull_endless, .ctx = &barrier};
        mtask_imap *imap;
        map.ahead = workers;
        ck_assert_status(mtask_barrier_init(&barrier, workers, NULL, NULL, 0), MTASK_OK);
        ck_assert_status(mtask_pool_imap(pool, &map, &imap), MTASK_OK);
        for (unsigned i = 0; i < 30 * workers; i++) {
            mtask_item item;
            ck_assert_status(mtask_imap_next(imap, &item, MTASK_FOREVER), MTASK_OK);
        }
        ck_assert_status(mtask_barrier_abort(&barrier), MTASK_OK);
        mtask_imap_close(imap);
        end_pool(pool);
    }
}
END_TEST

/* ---- laziness ---- */

/* At rest no more is pulled than was asked for, and `ahead`. */
static void check_laziness(unsigned workers, size_t ahead, size_t chunk, bool unordered) {
    mtask_pool *pool = open_pool(workers);
    source *self = source_make(pool, ENDLESS);
    mtask_imap *imap;
    source_limit(self, ahead, chunk);
    self->map.unordered = unordered;
    imap = source_open(self);
    for (int i = 0; i < 5; i++) {
        testing_pause(2); /* time for more than there should be */
        testing_check(mtask_word_load(&self->pulled) <=
                      mtask_word_load(&self->asked) + self->ahead);
        (void)next_item(self, imap);
    }
    source_close(self, imap);
    end_pool(pool);
}

START_TEST(no_more_is_pulled_than_it_may_be_ahead) {
    for (unsigned workers = 1; workers <= 3; workers++)
        for (int unordered = 0; unordered < 2; unordered++) {
            check_laziness(workers, 0, 0, unordered != 0);
            check_laziness(workers, 1, 1, unordered != 0);
            check_laziness(workers, 7, 1, unordered != 0);
            check_laziness(workers, 7, 3, unordered != 0); /* rounded up to 9 */
            check_laziness(workers, 1, 10, unordered != 0);
            check_laziness(workers, 0, 5, unordered != 0);
        }
}
END_TEST

START_TEST(an_imap_works_ahead) {
    mtask_pool *pool = open_pool(2);
    source *self = source_make(pool, ENDLESS);
    mtask_imap *imap;
    source_limit(self, 12, 3);
    imap = source_open(self);
    await_word(&self->run, 12); /* though nobody has asked for a result */
    for (mtask_word i = 1; i <= 30; i++) {
        (void)next_item(self, imap);
        await_word(&self->run, 12 + i / 3 * 3 - 3);
    }
    source_close(self, imap);
    end_pool(pool);
}
END_TEST

/* Delays make the input slower or faster than the items, and the pullers change. */
START_TEST(the_input_is_never_pulled_twice_at_once) {
    uint64_t seed = testing_seed();
    for (unsigned workers = 2; workers <= 5; workers += 3) {
        mtask_pool *pool = open_pool(workers);
        for (int unordered = 0; unordered < 2; unordered++) {
            source *self = source_make(pool, (size_t)testing_scale(5000));
            mtask_imap *imap;
            self->seed = seed + workers;
            self->map.unordered = unordered != 0;
            source_limit(self, 16, 1);
            imap = source_open(self);
            take_all(self, imap);
            source_close(self, imap);
        }
        end_pool(pool);
    }
}
END_TEST

START_TEST(an_empty_input_gives_nothing) {
    mtask_pool *pool = open_pool(1);
    source *self = source_make(pool, 0);
    mtask_imap *imap = source_open(self);
    check_done(imap);
    ck_assert_uint_eq(self->run, 0);
    source_close(self, imap);
    end_pool(pool);
}
END_TEST

/* ---- failures ---- */

static void iterate_failing(mtask_pool *pool, size_t chunk, bool unordered) {
    source *self = source_make(pool, 100);
    mtask_imap *imap;
    self->failing_every = 5;
    self->map.chunk = chunk;
    self->map.unordered = unordered;
    imap = source_open(self);
    take_all(self, imap);
    source_close(self, imap);
}

START_TEST(an_item_that_fails_does_not_stop_the_others) {
    for (unsigned workers = 1; workers <= 3; workers++) {
        mtask_pool *pool = open_pool(workers);
        for (int unordered = 0; unordered < 2; unordered++) {
            iterate_failing(pool, 1, unordered != 0);
            iterate_failing(pool, 7, unordered != 0);
            iterate(pool, 50, 7, 0, unordered != 0); /* nothing of it stays */
        }
        end_pool(pool);
    }
}
END_TEST

/* The text of a failed item stays until the next call, whatever the others do. */
START_TEST(a_result_stays_until_the_next_call) {
    mtask_pool *pool = open_pool(2);
    source *self = source_make(pool, 60);
    mtask_imap *imap;
    self->failing_every = 2;
    source_limit(self, 4, 1);
    imap = source_open(self);
    for (size_t i = 0; i < 60; i++) {
        mtask_item item = next_item(self, imap);
        await_word(&self->run, (mtask_word)(i + 4 < 60 ? i + 4 : 60));
        check_item(self, &item, is_failing(self, i) ? MTASK_FAILED : MTASK_OK);
    }
    check_done(imap);
    source_close(self, imap);
    end_pool(pool);
}
END_TEST

/* Fails after so many numbers; every item before comes, as does the failure, once. */
static void check_input_failure(unsigned workers, size_t count, size_t chunk, bool unordered,
                                const char *why) {
    mtask_pool *pool = open_pool(workers);
    source *self = source_make(pool, count);
    mtask_imap *imap;
    size_t items = 0, failures = 0;
    self->end = MTASK_AUTH;
    self->why = why;
    self->failing_every = 3; /* whose texts are not the input's */
    self->map.chunk = chunk;
    self->map.unordered = unordered;
    imap = source_open(self);
    for (size_t i = 0; i <= count; i++) {
        mtask_item item;
        mtask_status status = mtask_imap_next(imap, &item, MTASK_FOREVER);
        testing_check(status == MTASK_OK || status == MTASK_FAILED);
        if (item.out == NULL) {
            ck_assert_status(status, MTASK_FAILED);
            ck_assert_status(item.status, MTASK_AUTH);
            ck_assert_str_eq(item.text, why != NULL ? why : "");
            testing_check(unordered || i == count);
            failures++;
        } else {
            check_item(self, &item, status);
            items++;
        }
    }
    ck_assert_uint_eq(items, count);
    ck_assert_uint_eq(failures, 1);
    check_done(imap);
    source_close(self, imap);
    end_pool(pool);
}

START_TEST(a_failure_of_the_input_ends_it) {
    for (unsigned workers = 1; workers <= 3; workers++)
        for (size_t count = 0; count <= 20; count += 4)
            for (int unordered = 0; unordered < 2; unordered++) {
                check_input_failure(workers, count, 1, unordered != 0, "no more paper");
                check_input_failure(workers, count, 3, unordered != 0, "no more paper");
                check_input_failure(workers, count, 3, unordered != 0, NULL);
            }
}
END_TEST

START_TEST(an_imap_needs_its_functions) {
    mtask_pool *pool = open_pool(1);
    mtask_imap_desc map = {0};
    mtask_imap *imap = NULL;
    ck_assert_status(mtask_pool_imap(pool, &map, &imap), MTASK_INVALID);
    map.fn = work;
    ck_assert_status(mtask_pool_imap(pool, &map, &imap), MTASK_INVALID);
    map.fn = NULL;
    map.input = pull;
    ck_assert_status(mtask_pool_imap(pool, &map, &imap), MTASK_INVALID);
    ck_assert_status(mtask_pool_imap_unordered(pool, &map, &imap), MTASK_INVALID);
    end_pool(pool);
}
END_TEST

/* ---- time-outs ---- */

static void expect_timeout(mtask_imap *imap, int64_t timeout) {
    mtask_item item;
    int64_t before = mtask_now();
    ck_assert_status(mtask_imap_next(imap, &item, timeout), MTASK_TIMEOUT);
    ck_assert_int_ge(mtask_now() - before, timeout);
}

START_TEST(after_a_time_out_it_goes_on) {
    for (unsigned workers = 1; workers <= 3; workers++)
        for (int unordered = 0; unordered < 2; unordered++) {
            mtask_pool *pool = open_pool(workers);
            source *self = source_make(pool, 20);
            mtask_imap *imap;
            mtask_item item;
            self->map.unordered = unordered != 0;
            self->map.ahead = 1;
            self->hold_item = 0;
            imap = source_open(self);
            expect_timeout(imap, MTASK_NOWAIT);
            expect_timeout(imap, MTASK_MS(3));
            ck_assert_status(mtask_imap_next(imap, &item, -1), MTASK_INVALID);
            ck_assert_status(mtask_imap_next(imap, &item, INT64_MIN), MTASK_INVALID);
            mtask_event_set(&self->go);
            take_all(self, imap);
            source_close(self, imap);
            end_pool(pool);
        }
}
END_TEST

START_TEST(results_come_while_the_input_waits) {
    for (int unordered = 0; unordered < 2; unordered++) {
        mtask_pool *pool = open_pool(2);
        source *self = source_make(pool, 20);
        mtask_imap *imap;
        self->map.unordered = unordered != 0;
        self->map.ahead = 10;
        self->hold_input = 5;
        imap = source_open(self);
        for (int i = 0; i < 5; i++)
            (void)next_item(self, imap);
        expect_timeout(imap, MTASK_MS(3));
        mtask_event_set(&self->go);
        for (int i = 5; i < 20; i++)
            (void)next_item(self, imap);
        check_done(imap);
        source_close(self, imap);
        end_pool(pool);
    }
}
END_TEST

/* ---- buffers ---- */

typedef struct buffers {
    size_t in_size, out_size;
    size_t left; /* inputs */
} buffers;

static bool is_aligned(const void *buffer) {
    return (uintptr_t)buffer % 64 == 0;
}

static mtask_status fill(void *in, void *ctx) {
    buffers *self = (buffers *)ctx;
    testing_check(in != NULL && is_aligned(in));
    memset(in, (int)(self->left % 251), self->in_size);
    return self->left-- > 0 ? MTASK_OK : MTASK_DONE;
}

static void move(const void *in, void *out, void *ctx) {
    const buffers *self = (const buffers *)ctx;
    testing_check(in != NULL && is_aligned(in) && out != NULL && is_aligned(out));
    for (size_t i = 0; i < self->in_size; i++)
        testing_check(((const unsigned char *)in)[i] == *(const unsigned char *)in);
    memset(out, self->in_size > 0 ? *(const unsigned char *)in : 0, self->out_size);
}

static void check_buffers(mtask_pool *pool, size_t in_size, size_t out_size, size_t chunk) {
    buffers self = {in_size, out_size, 100};
    mtask_imap_desc map = {.fn = move, .input = fill, .ctx = &self};
    mtask_imap *imap;
    mtask_item item;
    map.in_size = in_size;
    map.out_size = out_size;
    map.chunk = chunk;
    ck_assert_status(mtask_pool_imap(pool, &map, &imap), MTASK_OK);
    for (size_t i = 0; i < 100; i++) {
        ck_assert_status(mtask_imap_next(imap, &item, MTASK_FOREVER), MTASK_OK);
        testing_check(is_aligned(item.in) && is_aligned(item.out));
        testing_check(item.in != NULL && item.out != NULL);
        for (size_t k = 0; in_size > 0 && k < out_size; k++)
            testing_check(((unsigned char *)item.out)[k] == (100 - i) % 251);
    }
    ck_assert_status(mtask_imap_next(imap, &item, MTASK_FOREVER), MTASK_DONE);
    mtask_imap_close(imap);
}

START_TEST(buffers_of_any_size_are_aligned) {
    static const size_t sizes[] = {0, 1, 3, 63, 64, 65, 5000};
    mtask_pool *pool = open_pool(2);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++)
            check_buffers(pool, sizes[i], sizes[k], 1 + (i + k) % 3);
    end_pool(pool);
}
END_TEST

enum { MOST_BUFFERS = 64 };

/* Which buffers there were. */
typedef struct addresses {
    const void *seen[MOST_BUFFERS];
    size_t count;
} addresses;

static void addresses_add(addresses *self, const void *buffer) {
    for (size_t i = 0; i < self->count; i++)
        if (self->seen[i] == buffer)
            return;
    testing_check(self->count < MOST_BUFFERS);
    self->seen[self->count++] = buffer;
}

START_TEST(a_few_buffers_are_used_again_and_again) {
    for (int unordered = 0; unordered < 2; unordered++) {
        mtask_pool *pool = open_pool(2);
        source *self = source_make(pool, 1000);
        addresses ins = {.count = 0}, outs = {.count = 0};
        mtask_imap *imap;
        source_limit(self, 10, 5);
        self->map.unordered = unordered != 0;
        imap = source_open(self);
        for (int i = 0; i < 1000; i++) {
            mtask_item item = next_item(self, imap);
            addresses_add(&ins, item.in);
            addresses_add(&outs, item.out);
        }
        ck_assert_uint_le(ins.count, 20); /* two chunks ahead, and at most two that are taken */
        ck_assert_uint_le(outs.count, 20);
        source_close(self, imap);
        end_pool(pool);
    }
}
END_TEST

/* Buffers hold what was left in them; only at first, something else. */
typedef struct fresh {
    mtask_word ins, outs; /* how many held something else */
    size_t left;          /* inputs */
} fresh;

#define MARK UINT64_C(0x123456789abcdef1)

static void use_again(void *buffer, mtask_word *firsts) {
    uint64_t *words = (uint64_t *)buffer;
    mtask_word_add(firsts, words[0] != MARK || words[1] != ~MARK);
    words[0] = MARK;
    words[1] = ~MARK;
}

static mtask_status pull_into_used(void *in, void *ctx) {
    fresh *self = (fresh *)ctx;
    if (self->left-- == 0)
        return MTASK_DONE;
    use_again(in, &self->ins);
    return MTASK_OK;
}

static void write_to_used(const void *in, void *out, void *ctx) {
    testing_check(*(const uint64_t *)in == MARK);
    use_again(out, &((fresh *)ctx)->outs);
}

START_TEST(buffers_are_reused_as_they_were_left) {
    mtask_pool *pool = open_pool(2);
    fresh self = {0, 0, 500};
    mtask_imap_desc map = {.fn = write_to_used, .input = pull_into_used, .ctx = &self};
    mtask_imap *imap;
    mtask_item item;
    map.in_size = map.out_size = 2 * sizeof(uint64_t);
    map.ahead = 4;
    ck_assert_status(mtask_pool_imap(pool, &map, &imap), MTASK_OK);
    for (int i = 0; i < 500; i++)
        ck_assert_status(mtask_imap_next(imap, &item, MTASK_FOREVER), MTASK_OK);
    check_done(imap);
    mtask_imap_close(imap);
    ck_assert(self.ins > 0 && self.ins <= 6);
    ck_assert(self.outs > 0 && self.outs <= 6);
    end_pool(pool);
}
END_TEST

/* ---- its end ---- */

START_TEST(an_endless_input_can_be_left) {
    for (unsigned workers = 1; workers <= 3; workers++)
        for (size_t taken = 0; taken < 20; taken += 3) {
            mtask_pool *pool = open_pool(workers);
            source *self = source_make(pool, ENDLESS);
            mtask_imap *imap;
            source_limit(self, 6, 1 + taken % 4);
            imap = source_open(self);
            for (size_t i = 0; i < taken; i++)
                (void)next_item(self, imap);
            source_close(self, imap);
            end_pool(pool);
        }
}
END_TEST

/* What nobody closes: kept, so that it is not lost. */
static source *volatile forgotten_source;
static mtask_imap *volatile forgotten;

static void *count_slowly(void *arg) {
    testing_pause(1);
    mtask_word_add((mtask_word *)arg, 1);
    return NULL;
}

START_TEST(destroy_does_what_waits_but_does_not_wait_for_a_forgotten_imap) {
    mtask_pool *pool = open_pool(2);
    mtask_word done = 0;
    forgotten_source = source_make(pool, ENDLESS);
    source_limit(forgotten_source, 6, 2);
    forgotten = source_open(forgotten_source);
    (void)next_item(forgotten_source, forgotten);
    for (int i = 0; i < 20; i++)
        ck_assert_status(mtask_pool_post(pool, count_slowly, &done), MTASK_OK);
    ck_assert_status(mtask_pool_destroy(pool), MTASK_OK);
    ck_assert_uint_eq(done, 20);
}
END_TEST

START_TEST(closing_nothing_is_allowed) {
    mtask_imap_close(NULL);
    mtask_completed_close(NULL);
}
END_TEST

static void let_go(testing_member *self) {
    testing_pause(10);
    mtask_event_set(&((source *)self->arg)->go);
}

/* Closes while one item, or the input, is held up: that has to end first. */
static void close_while_held(unsigned workers, bool input) {
    mtask_pool *pool = open_pool(workers);
    source *self = source_make(pool, 1000);
    mtask_imap *imap;
    testing_crowd crowd;
    if (input)
        self->hold_input = 0;
    else
        self->hold_item = 0;
    imap = source_open(self);
    await_word(input ? &self->pulling : &self->running, 1);
    testing_crowd_start(&crowd, 1, let_go, self);
    mtask_imap_close(imap);
    ck_assert(mtask_event_is_set(&self->go));
    testing_crowd_join(&crowd);
    ck_assert_uint_eq(mtask_word_load(&self->running), 0);
    ck_assert_uint_eq(mtask_word_load(&self->pulling), 0);
    free(self);
    end_pool(pool);
}

START_TEST(close_waits_for_what_runs) {
    for (unsigned workers = 1; workers <= 3; workers++) {
        close_while_held(workers, false);
        close_while_held(workers, true);
    }
}
END_TEST

/* A worker that is kept busy. */
typedef struct occupation {
    mtask_word begun;
    mtask_event end;
} occupation;

static void *stay_busy(void *arg) {
    occupation *self = (occupation *)arg;
    mtask_word_store(&self->begun, 1);
    ck_assert_status(mtask_event_wait(&self->end, MTASK_FOREVER), MTASK_OK);
    return arg;
}

static mtask_pool *open_busy_pool(occupation *self) {
    mtask_pool *pool = open_pool(1);
    memset(self, 0, sizeof *self);
    ck_assert_status(mtask_pool_post(pool, stay_busy, self), MTASK_OK);
    await_word(&self->begun, 1);
    return pool;
}

/* Nothing has begun, as the only worker is busy with something else: close need not wait for it. */
START_TEST(close_does_not_wait_for_what_has_not_begun) {
    occupation busy;
    mtask_pool *pool = open_busy_pool(&busy);
    source *self = source_make(pool, 100);
    mtask_imap *imap = source_open(self);
    expect_timeout(imap, MTASK_MS(2));
    mtask_imap_close(imap);
    ck_assert_uint_eq(self->pulled, 0);
    free(self);
    mtask_event_set(&busy.end);
    end_pool(pool);
}
END_TEST

START_TEST(an_imap_that_has_not_begun_is_canceled_with_its_pool) {
    occupation busy;
    mtask_pool *pool = open_busy_pool(&busy);
    source *self = source_make(pool, 100);
    mtask_imap *imap = source_open(self);
    mtask_item item;
    ck_assert_status(mtask_pool_terminate(pool), MTASK_OK);
    ck_assert_status(mtask_imap_next(imap, &item, MTASK_FOREVER), MTASK_CANCELED);
    ck_assert_status(mtask_imap_next(imap, &item, MTASK_NOWAIT), MTASK_CANCELED);
    ck_assert_uint_eq(self->pulled, 0);
    source_close(self, imap);
    mtask_event_set(&busy.end);
    end_pool(pool);
}
END_TEST

START_TEST(an_imap_that_runs_ends_when_its_pool_is_terminated) {
    for (unsigned workers = 1; workers <= 3; workers++)
        for (int unordered = 0; unordered < 2; unordered++) {
            mtask_pool *pool = open_pool(workers);
            source *self = source_make(pool, ENDLESS);
            mtask_imap *imap;
            mtask_item item;
            mtask_status status;
            self->map.unordered = unordered != 0;
            imap = source_open(self);
            for (int i = 0; i < 10; i++)
                (void)next_item(self, imap);
            ck_assert_status(mtask_pool_terminate(pool), MTASK_OK);
            do
                status = mtask_imap_next(imap, &item, MTASK_FOREVER);
            while (status == MTASK_OK);
            ck_assert_status(status, MTASK_CANCELED);
            source_close(self, imap);
            end_pool(pool);
        }
}
END_TEST

static void end_the_pool(testing_member *self) {
    testing_await_asleep(&self->crowd->members[0]);
    ck_assert_status(mtask_pool_terminate(((source *)self->arg)->pool), MTASK_OK);
}

static void await_cancel(testing_member *self) {
    source *input = (source *)self->arg;
    mtask_imap *imap = source_open(input);
    mtask_item item;
    self->status = mtask_imap_next(imap, &item, MTASK_FOREVER);
    mtask_imap_close(imap);
}

START_TEST(terminate_wakes_who_waits_for_a_result) {
    occupation busy;
    mtask_pool *pool = open_busy_pool(&busy);
    source *self = source_make(pool, 100);
    testing_crowd crowd = {.count = 0};
    (void)testing_crowd_add(&crowd, await_cancel, self);
    (void)testing_crowd_add(&crowd, end_the_pool, self);
    testing_crowd_join(&crowd);
    ck_assert_status(crowd.members[0].status, MTASK_CANCELED);
    free(self);
    mtask_event_set(&busy.end);
    end_pool(pool);
}
END_TEST

START_TEST(a_closed_pool_takes_no_imap) {
    mtask_pool *pool = open_pool(1);
    source *self = source_make(pool, 100);
    mtask_imap *imap = NULL;
    ck_assert_status(mtask_pool_close(pool), MTASK_OK);
    ck_assert_status(mtask_pool_imap(pool, &self->map, &imap), MTASK_CLOSED);
    free(self);
    end_pool(pool);
}
END_TEST

static void *fail_to_begin(void *arg) {
    (void)arg;
    return mtask_fail(MTASK_NOT_FOUND, "no licence");
}

START_TEST(an_imap_on_a_broken_pool_says_so) {
    for (int round = 0; round < 30; round++) {
        mtask_pool_desc desc = {0};
        mtask_pool *pool;
        mtask_imap *imap = NULL;
        mtask_item item;
        source *self;
        mtask_status status;
        desc.workers = 1;
        desc.init = fail_to_begin;
        ck_assert_status(mtask_pool_create(&pool, &desc), MTASK_OK);
        self = source_make(pool, 10);
        status = mtask_pool_imap(pool, &self->map, &imap);
        if (status == MTASK_OK) { /* its init had not failed yet */
            status = mtask_imap_next(imap, &item, MTASK_FOREVER);
            testing_check(strcmp(item.text, "no licence") == 0);
            mtask_imap_close(imap);
        }
        ck_assert_status(status, MTASK_BROKEN);
        ck_assert_uint_eq(self->pulled, 0);
        free(self);
        end_pool(pool);
    }
}
END_TEST

START_TEST(a_pool_that_is_closed_does_the_imaps_it_has) {
    for (unsigned workers = 1; workers <= 3; workers++) {
        mtask_pool *pool = open_pool(workers);
        source *self = source_make(pool, 200);
        mtask_imap *imap = source_open(self);
        ck_assert_status(mtask_pool_close(pool), MTASK_OK);
        take_all(self, imap);
        source_close(self, imap);
        end_pool(pool);
    }
}
END_TEST

/* ---- where it is called ---- */

static void *iterate_here(void *arg) {
    mtask_pool *pool = (mtask_pool *)arg;
    iterate(pool, 50, 1, 1, false);
    iterate(pool, 50, 4, 0, true);
    iterate(pool, 0, 1, 0, false);
    return arg;
}

static void *leave_here(void *arg) {
    source *self = source_make((mtask_pool *)arg, ENDLESS);
    mtask_imap *imap = source_open(self);
    for (int i = 0; i < 5; i++)
        (void)next_item(self, imap);
    source_close(self, imap);
    self = source_make((mtask_pool *)arg, ENDLESS);
    source_close(self, source_open(self)); /* before anything has begun */
    return arg;
}

/* With time-outs the worker cannot do the work itself. */
static void *poll_here(void *arg) {
    source *self = source_make((mtask_pool *)arg, 20);
    mtask_imap *imap = source_open(self);
    mtask_item item;
    mtask_status status;
    size_t count = 0;
    while ((status = mtask_imap_next(imap, &item, MTASK_MS(1))) != MTASK_DONE) {
        testing_check(status == MTASK_OK || status == MTASK_TIMEOUT);
        count += status == MTASK_OK;
    }
    testing_check(count == 20);
    source_close(self, imap);
    return arg;
}

START_TEST(a_task_may_iterate_on_its_own_pool) {
    for (unsigned workers = 1; workers <= 3; workers++) {
        mtask_pool *pool = open_pool(workers);
        run_task(pool, iterate_here, pool);
        run_task(pool, leave_here, pool);
        run_task(pool, poll_here, pool);
        end_pool(pool);
    }
}
END_TEST

START_TEST(a_task_may_iterate_on_another_pool) {
    mtask_pool *pool = open_pool(1), *other = open_pool(1);
    run_task(pool, iterate_here, other);
    run_task(other, leave_here, pool);
    run_task(pool, poll_here, other);
    end_pool(pool);
    end_pool(other);
}
END_TEST

typedef struct nest {
    mtask_pool *pool;
    int depth; /* levels below */
    int left;  /* inputs */
    mtask_word *leaves;
} nest;

static mtask_status pull_nested(void *in, void *ctx) {
    (void)in;
    return ((nest *)ctx)->left-- > 0 ? MTASK_OK : MTASK_DONE;
}

static void descend(const void *in, void *out, void *ctx) {
    const nest *self = (const nest *)ctx;
    nest below = {self->pool, self->depth - 1, 3, self->leaves};
    mtask_imap_desc map = {.fn = descend, .input = pull_nested, .ctx = &below};
    mtask_imap *imap;
    mtask_item item;
    (void)in;
    (void)out;
    mtask_word_add(self->leaves, self->depth == 0);
    if (self->depth == 0)
        return;
    map.unordered = self->depth % 2 == 0;
    ck_assert_status(mtask_pool_imap(self->pool, &map, &imap), MTASK_OK);
    for (int i = 0; i < 3; i++)
        ck_assert_status(mtask_imap_next(imap, &item, MTASK_FOREVER), MTASK_OK);
    ck_assert_status(mtask_imap_next(imap, &item, MTASK_FOREVER), MTASK_DONE);
    mtask_imap_close(imap);
}

START_TEST(imaps_may_be_nested) {
    for (unsigned workers = 1; workers <= 3; workers++) {
        mtask_word leaves = 0;
        nest top = {open_pool(workers), 4, 0, &leaves};
        descend(NULL, NULL, &top);
        ck_assert_uint_eq(leaves, 81);
        end_pool(top.pool);
    }
}
END_TEST

/* One imap as the input of another one. */
static mtask_status pull_result(void *in, void *ctx) {
    mtask_item item;
    mtask_status status = mtask_imap_next((mtask_imap *)ctx, &item, MTASK_FOREVER);
    if (status == MTASK_OK)
        memcpy(in, item.out, sizeof(size_t));
    return status;
}

static void double_it(const void *in, void *out, void *ctx) {
    *(size_t *)out = 2 * *(const size_t *)in;
    (void)ctx;
}

START_TEST(imaps_may_be_chained) {
    for (unsigned workers = 1; workers <= 3; workers++) {
        mtask_pool *pool = open_pool(workers);
        source *self = source_make(pool, 100);
        mtask_imap_desc map = {.fn = double_it, .input = pull_result};
        mtask_imap *last, *first = source_open(self);
        mtask_item item;
        map.ctx = first;
        map.in_size = map.out_size = sizeof(size_t);
        ck_assert_status(mtask_pool_imap(pool, &map, &last), MTASK_OK);
        for (size_t i = 0; i < 100; i++) {
            ck_assert_status(mtask_imap_next(last, &item, MTASK_FOREVER), MTASK_OK);
            ck_assert_uint_eq(*(size_t *)item.out, 2 * i * i);
        }
        check_done(last);
        mtask_imap_close(last);
        source_close(self, first);
        end_pool(pool);
    }
}
END_TEST

typedef struct visitors {
    mtask_pool *pool;
    uint64_t seed;
    int64_t start;
} visitors;

/* Takes some results, at times with time-outs, and leaves anywhere. */
static void visit(mtask_pool *pool, testing_random *random) {
    source *self = source_make(pool, testing_below(random, 100));
    bool patient = testing_below(random, 2) == 0;
    mtask_imap *imap;
    self->seed = testing_below(random, 2) == 0 ? 0 : testing_next(random);
    self->failing_every = (mtask_word)testing_below(random, 4);
    self->map.unordered = testing_below(random, 2) == 0;
    source_limit(self, testing_below(random, 12), testing_below(random, 6));
    imap = source_open(self);
    if (testing_below(random, 2) == 0) {
        take_all(self, imap);
    } else {
        for (uint64_t left = testing_below(random, self->count + 1); left > 0; left--) {
            mtask_item item;
            mtask_status status;
            mtask_word_add(&self->asked, 1);
            status = mtask_imap_next(imap, &item, patient ? MTASK_FOREVER : MTASK_US(20));
            if (status != MTASK_TIMEOUT)
                check_item(self, &item, status);
        }
    }
    source_close(self, imap);
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
        if (testing_below(&random, 4) == 0)
            run_task(play->pool, visit_as_task, (void *)(uintptr_t)testing_next(&random));
        else
            visit(play->pool, &random);
    }
}

START_TEST(many_threads_and_tasks_may_iterate_at_once) {
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

/* ---- as_completed ---- */

static mtask_future *promise(void) {
    mtask_future *future;
    ck_assert_status(mtask_future_create(&future, NULL), MTASK_OK);
    return future;
}

static void promises_make(mtask_future **futures, size_t count) {
    for (size_t i = 0; i < count; i++)
        futures[i] = promise();
}

static void release_all(mtask_future **futures, size_t count) {
    for (size_t i = 0; i < count; i++)
        mtask_future_release(futures[i]);
}

static mtask_completed *as_completed(mtask_future *const *futures, size_t count) {
    mtask_completed *completed = NULL;
    ck_assert_status(mtask_as_completed(futures, count, &completed), MTASK_OK);
    return completed;
}

static void set(mtask_future *future) {
    ck_assert_status(mtask_future_set(future, future), MTASK_OK);
}

/* Takes the next one; returns its place. */
static size_t next_completed(mtask_completed *completed, mtask_future *const *futures,
                             int64_t timeout) {
    mtask_future *future = NULL;
    size_t index = NO_HOLD;
    ck_assert_status(mtask_completed_next(completed, &future, &index, timeout), MTASK_OK);
    testing_check(index != NO_HOLD && futures[index] == future && mtask_future_done(future));
    return index;
}

static void check_all_completed(mtask_completed *completed) {
    mtask_future *future;
    for (int i = 0; i < 3; i++)
        ck_assert_status(
            mtask_completed_next(completed, &future, NULL, i == 1 ? MTASK_NOWAIT : MTASK_FOREVER),
            MTASK_DONE);
}

/* Takes all of them; each comes once. */
static void complete_all(mtask_completed *completed, mtask_future *const *futures, size_t count) {
    unsigned char *seen = (unsigned char *)calloc(count + 1, 1);
    testing_check(seen != NULL);
    for (size_t i = 0; i < count; i++)
        testing_check(seen[next_completed(completed, futures, MTASK_FOREVER)]++ == 0);
    check_all_completed(completed);
    free(seen);
}

static void *same(void *arg) {
    return arg;
}

static void *rest(void *arg) {
    testing_pause((long)(intptr_t)arg);
    return arg;
}

static void *fail_task(void *arg) {
    (void)arg;
    return mtask_fail(MTASK_CLOSED, "as it was to be");
}

static mtask_future *start_thread(mtask_fn fn, void *arg) {
    mtask_future *future = NULL;
    mtask_thread_desc desc = {0};
    desc.fn = fn;
    desc.arg = arg;
    desc.future = &future;
    ck_assert_status(mtask_thread_start_ex(NULL, &desc), MTASK_OK);
    return future;
}

static mtask_future *submit(mtask_pool *pool, mtask_fn fn, void *arg) {
    mtask_future *future = NULL;
    ck_assert_status(mtask_pool_submit(pool, fn, arg, &future), MTASK_OK);
    return future;
}

START_TEST(futures_of_any_origin_come_once_each) {
    enum { N = 60 };
    mtask_pool *pool = open_pool(2), *other = open_pool(1);
    mtask_future *futures[N];
    mtask_completed *completed;
    for (int i = 0; i < N; i += 6) {
        futures[i] = submit(pool, rest, (void *)(intptr_t)(i % 4));
        futures[i + 1] = submit(other, fail_task, NULL);
        futures[i + 2] = start_thread(rest, (void *)(intptr_t)(i % 3));
        futures[i + 3] = start_thread(fail_task, NULL);
        futures[i + 4] = promise();
        futures[i + 5] = promise();
        if (i % 4 == 0)
            set(futures[i + 4]);
        ck_assert_status(mtask_future_cancel(futures[i + 5]), MTASK_OK);
    }
    completed = as_completed(futures, N);
    for (int i = 0; i < N; i += 6)
        if (i % 4 != 0)
            set(futures[i + 4]);
    complete_all(completed, futures, N);
    mtask_completed_close(completed);
    release_all(futures, N);
    end_pool(pool);
    end_pool(other);
    ck_assert_status(mtask_thread_join_all(MTASK_FOREVER), MTASK_OK);
}
END_TEST

START_TEST(no_futures_are_all_completed) {
    mtask_completed *completed = as_completed(NULL, 0);
    check_all_completed(completed);
    mtask_completed_close(completed);
}
END_TEST

START_TEST(null_is_no_future_to_complete) {
    mtask_future *futures[3] = {promise(), NULL, promise()};
    mtask_completed *completed = NULL;
    ck_assert_status(mtask_as_completed(futures, 3, &completed), MTASK_INVALID);
    ck_assert_status(mtask_as_completed(&futures[1], 1, &completed), MTASK_INVALID);
    set(futures[0]); /* nobody listens to it */
    release_all(futures, 3);
}
END_TEST

START_TEST(a_future_that_stands_there_twice_comes_once) {
    mtask_future *a = promise(), *b = promise();
    mtask_future *futures[] = {a, b, a, a, b};
    mtask_completed *completed;
    mtask_future *future;
    set(a);
    completed = as_completed(futures, 5);
    testing_check(futures[next_completed(completed, futures, MTASK_NOWAIT)] == a);
    ck_assert_status(mtask_completed_next(completed, &future, NULL, MTASK_NOWAIT), MTASK_TIMEOUT);
    set(b);
    testing_check(futures[next_completed(completed, futures, MTASK_NOWAIT)] == b);
    check_all_completed(completed);
    mtask_completed_close(completed);
    mtask_future_release(a);
    mtask_future_release(b);
}
END_TEST

START_TEST(futures_come_in_the_order_in_which_they_end) {
    enum { N = 8 };
    testing_random random = testing_random_make(testing_seed(), 0);
    for (long round = testing_scale(200); round > 0; round--) {
        mtask_future *futures[N];
        mtask_completed *completed;
        size_t order[N], ended = testing_below(&random, N);
        promises_make(futures, N);
        for (size_t i = 0; i < N; i++) {
            size_t k = testing_below(&random, i + 1);
            order[i] = order[k];
            order[k] = i;
        }
        for (size_t i = 0; i < ended; i++)
            set(futures[order[i]]);
        completed = as_completed(futures, N);
        for (size_t i = ended; i < N; i++)
            set(futures[order[i]]);
        for (size_t i = 0; i < N; i++) { /* those that had ended come first, in any order */
            size_t index = next_completed(completed, futures, MTASK_NOWAIT);
            bool early = false;
            for (size_t k = 0; k < ended; k++)
                early |= order[k] == index;
            testing_check(i < ended ? early : index == order[i]);
        }
        check_all_completed(completed);
        mtask_completed_close(completed);
        release_all(futures, N);
    }
}
END_TEST

START_TEST(after_a_time_out_futures_still_come) {
    mtask_future *futures[2];
    mtask_completed *completed;
    mtask_future *future;
    int64_t before = mtask_now();
    promises_make(futures, 2);
    completed = as_completed(futures, 2);
    ck_assert_status(mtask_completed_next(completed, &future, NULL, MTASK_NOWAIT), MTASK_TIMEOUT);
    ck_assert_status(mtask_completed_next(completed, &future, NULL, MTASK_MS(5)), MTASK_TIMEOUT);
    ck_assert_int_ge(mtask_now() - before, MTASK_MS(5));
    ck_assert_status(mtask_completed_next(completed, &future, NULL, -1), MTASK_INVALID);
    set(futures[1]);
    ck_assert_uint_eq(next_completed(completed, futures, MTASK_NOWAIT), 1);
    ck_assert_status(mtask_completed_next(completed, &future, NULL, MTASK_MS(1)), MTASK_TIMEOUT);
    set(futures[0]);
    ck_assert_uint_eq(next_completed(completed, futures, MTASK_FOREVER), 0);
    check_all_completed(completed);
    mtask_completed_close(completed);
    release_all(futures, 2);
}
END_TEST

typedef struct promises {
    mtask_future *futures[4];
} promises;

/* Keeps the promises, each when the main thread waits for it. */
static void keep_slowly(testing_member *self) {
    promises *play = (promises *)self->arg;
    for (int i = 3; i >= 0; i--) {
        testing_await_process_asleep(getpid());
        set(play->futures[i]);
        mtask_future_release(play->futures[i]);
    }
}

START_TEST(who_waits_is_woken_by_each_of_them) {
    promises play;
    mtask_completed *completed;
    testing_crowd crowd;
    promises_make(play.futures, 4);
    completed = as_completed(play.futures, 4);
    testing_crowd_start(&crowd, 1, keep_slowly, &play);
    for (size_t i = 4; i-- > 0;)
        ck_assert_uint_eq(next_completed(completed, play.futures, MTASK_FOREVER), i);
    testing_crowd_join(&crowd);
    mtask_completed_close(completed); /* it held them */
}
END_TEST

static void count_free(void *value) {
    mtask_word_add((mtask_word *)value, 1);
}

START_TEST(the_iterator_holds_its_futures) {
    mtask_word freed[2] = {0, 0};
    mtask_future *futures[2], *future;
    mtask_completed *completed;
    for (int i = 0; i < 2; i++) {
        ck_assert_status(mtask_future_create(&futures[i], count_free), MTASK_OK);
        ck_assert_status(mtask_future_set(futures[i], &freed[i]), MTASK_OK);
    }
    completed = as_completed(futures, 2);
    release_all(futures, 2);
    ck_assert_status(mtask_completed_next(completed, &future, NULL, MTASK_NOWAIT), MTASK_OK);
    ck_assert_uint_eq(freed[0] + freed[1], 0);
    ck_assert_ptr_eq(mtask_future_retain(future), future);
    mtask_completed_close(completed);
    ck_assert_uint_eq(freed[0] + freed[1], 1);
    mtask_future_release(future);
    ck_assert_uint_eq(freed[0], 1);
    ck_assert_uint_eq(freed[1], 1);
}
END_TEST

START_TEST(futures_that_are_left_pending_may_end_later) {
    enum { N = 30 };
    mtask_future *futures[N];
    mtask_completed *first, *second;
    promises_make(futures, N);
    first = as_completed(futures, N);
    second = as_completed(futures, N);
    for (int i = 0; i < 10; i++)
        set(futures[i]);
    for (size_t i = 0; i < 5; i++)
        ck_assert_uint_eq(next_completed(first, futures, MTASK_NOWAIT), i);
    mtask_completed_close(first); /* five have come, five have ended, the others have not */
    for (int i = 10; i < N; i++)
        set(futures[i]);
    for (size_t i = 0; i < N; i++)
        ck_assert_uint_eq(next_completed(second, futures, MTASK_NOWAIT), i);
    mtask_completed_close(second);
    release_all(futures, N);
}
END_TEST

START_TEST(ten_thousand_futures_are_allowed) {
    enum { N = 10000 };
    mtask_future **futures = (mtask_future **)malloc(N * sizeof *futures);
    mtask_pool *pool = open_pool(2);
    mtask_completed *completed;
    testing_check(futures != NULL);
    for (int i = 0; i < N; i++)
        futures[i] = i % 3 == 0 ? promise() : submit(pool, same, NULL);
    completed = as_completed(futures, N);
    for (int i = 0; i < N; i += 3)
        set(futures[i]);
    complete_all(completed, futures, N);
    mtask_completed_close(completed);
    completed = as_completed(futures, N); /* all have ended */
    complete_all(completed, futures, N);
    mtask_completed_close(completed);
    release_all(futures, N);
    free(futures);
    end_pool(pool);
}
END_TEST

/* One thread ends futures that another one iterates over, and leaves. */
typedef struct duel {
    mtask_future *futures[8];
    uint32_t left; /* players that have left */
} duel;

static void duel_init(void *object) {
    duel *self = (duel *)object;
    promises_make(self->futures, 8);
    for (int i = 0; i < 8; i++)
        (void)mtask_future_retain(self->futures[i]);
}

static bool duel_play(void *object, int player, testing_random *random) {
    duel *self = (duel *)object;
    uint64_t taken = testing_below(random, 10);
    if (player == 0) {
        mtask_completed *completed = as_completed(self->futures, 8);
        for (uint64_t i = 0; i < taken && i < 8; i++)
            (void)next_completed(completed, self->futures, MTASK_FOREVER);
        mtask_completed_close(completed);
        release_all(self->futures, 8);
    } else {
        for (int i = 0; i < 8; i++) {
            mtask_future *future = self->futures[i];
            set(future);
            mtask_future_release(future);
        }
    }
    return __atomic_add_fetch(&self->left, 1, __ATOMIC_ACQ_REL) == 2;
}

START_TEST(an_iterator_may_be_left_while_futures_end) {
    testing_play(sizeof(duel), duel_init, duel_play);
}
END_TEST

enum { OWN = 40 };

/* Iterates over tasks of the pool that the caller is a worker of. */
static void *complete_own_tasks(void *arg) {
    mtask_pool *pool = (mtask_pool *)arg;
    mtask_future *futures[OWN];
    mtask_completed *completed;
    for (int i = 0; i < OWN; i++)
        futures[i] = submit(pool, i % 10 == 0 ? fail_task : same, NULL);
    completed = as_completed(futures, OWN);
    complete_all(completed, futures, OWN);
    mtask_completed_close(completed);
    completed = as_completed(futures, OWN);
    (void)next_completed(completed, futures, MTASK_SEC(100));
    mtask_completed_close(completed);
    release_all(futures, OWN);
    return arg;
}

START_TEST(a_task_may_iterate_over_tasks_of_its_own_pool) {
    for (unsigned workers = 1; workers <= 3; workers++) {
        mtask_pool *pool = open_pool(workers);
        run_task(pool, complete_own_tasks, pool);
        end_pool(pool);
    }
}
END_TEST

START_TEST(a_task_may_iterate_over_tasks_of_another_pool) {
    mtask_pool *pool = open_pool(1), *other = open_pool(1);
    run_task(pool, complete_own_tasks, other);
    run_task(pool, complete_own_tasks, NULL);
    end_pool(pool);
    end_pool(other);
}
END_TEST

/* ---- coroutines: all of it waits in the one wait ---- */

/* A task that is parked as an event loop would park it, though its thread does nothing else. */
typedef struct parked_task {
    mtask__parker parker; /* first: the table knows only this */
    mtask__task task;
    mtask_word posted;
    mtask_word parks;    /* how often it waited */
    mtask_word canceled; /* 1: its waits end */
} parked_task;

static bool wait_is_over(const parked_task *self, const mtask__waiter *waiter, int64_t deadline,
                         mtask_status *why) {
    bool cancel = mtask_word_load(&self->canceled) != 0 && (waiter->flags & MTASK__NOCANCEL) == 0;
    *why = cancel ? MTASK_CANCELED : MTASK_TIMEOUT;
    return cancel || mtask_now() >= deadline;
}

static mtask_status park(mtask__parker *parker, mtask__waiter *waiter, int64_t deadline) {
    parked_task *self = (parked_task *)parker;
    bool taken = false; /* a waker is found to have the waiter */
    mtask_word_add(&self->parks, 1);
    while (mtask_word_exchange(&self->posted, 0) == 0) {
        mtask_status why;
        if (!taken && wait_is_over(self, waiter, deadline, &why)) {
            if (mtask__unpark(waiter))
                return why;
            taken = true;
        }
        testing_pause(1);
    }
    return MTASK_OK;
}

static void post(mtask__parker *parker, mtask__waiter *waiter) {
    mtask_word_store(&((parked_task *)parker)->posted, 1);
    (void)waiter;
}

static mtask__task *parked_begin(parked_task *self) {
    memset(self, 0, sizeof *self);
    self->parker.park = park;
    self->parker.post = post;
    mtask__task_init(&self->task, &self->parker);
    return mtask__task_switch(&self->task);
}

static void parked_end(parked_task *self, mtask__task *last) {
    testing_check(mtask__task_switch(last) == &self->task);
}

static void slow_item(const void *in, void *out, void *ctx) {
    (void)in;
    (void)out;
    testing_pause(2);
    mtask_word_add((mtask_word *)ctx, 1);
}

static void slow_body(size_t begin, size_t end, void *ctx) {
    testing_pause(2);
    mtask_word_add((mtask_word *)ctx, (mtask_word)(end - begin));
}

static void slow_fold(size_t begin, size_t end, void *into, void *ctx) {
    slow_body(begin, end, ctx);
    *(size_t *)into += end - begin;
}

static void add_sizes(void *into, const void *later, void *ctx) {
    *(size_t *)into += *(const size_t *)later;
    (void)ctx;
}

START_TEST(a_coroutine_is_parked_while_a_map_or_a_loop_runs) {
    static const size_t zero;
    mtask_pool *pool = open_pool(2);
    mtask_word done = 0, parks;
    mtask_map_desc map = {.fn = slow_item, .ctx = &done, .count = 8};
    mtask_for_desc loop = {.end = 8, .grain = 1, .fold = slow_fold, .ctx = &done};
    size_t sum = 0;
    parked_task self;
    mtask__task *last = parked_begin(&self);
    ck_assert_status(mtask_pool_map(pool, &map, NULL), MTASK_OK);
    parks = self.parks;
    ck_assert_uint_ge(parks, 1);
    ck_assert_status(mtask_pool_for(pool, 0, 8, slow_body, &done), MTASK_OK);
    ck_assert_uint_gt(self.parks, parks);
    parks = self.parks;
    loop.combine = add_sizes;
    loop.identity = &zero;
    loop.size = sizeof sum;
    ck_assert_status(mtask_pool_reduce(pool, &loop, &sum, NULL), MTASK_OK);
    ck_assert_uint_gt(self.parks, parks);
    ck_assert_uint_eq(sum, 8);
    ck_assert_uint_eq(done, 24);
    parked_end(&self, last);
    end_pool(pool);
}
END_TEST

/* Whatever a cancelled coroutine is told, nothing runs any more when it has returned. */
START_TEST(a_canceled_coroutine_leaves_no_map_behind) {
    mtask_pool *pool = open_pool(2);
    mtask_word *done = (mtask_word *)calloc(1, sizeof *done);
    mtask_map_desc map = {.fn = slow_item, .ctx = done, .count = 8, .chunk = 1};
    mtask_status status;
    parked_task self;
    mtask__task *last = parked_begin(&self);
    testing_check(done != NULL);
    mtask_word_store(&self.canceled, 1);
    status = mtask_pool_map(pool, &map, NULL);
    testing_check(status == MTASK_CANCELED || (status == MTASK_OK && *done == 8));
    status = mtask_pool_for(pool, 0, 8, slow_body, done);
    testing_check(status == MTASK_CANCELED || (status == MTASK_OK && *done >= 8));
    free(done); /* a late access is caught */
    parked_end(&self, last);
    end_pool(pool);
}
END_TEST

START_TEST(a_coroutine_is_parked_while_it_waits_for_a_result) {
    mtask_pool *pool = open_pool(2);
    mtask_imap *imap;
    mtask_item item;
    source *input = source_make(pool, 10);
    parked_task self;
    mtask__task *last = parked_begin(&self);
    input->hold_item = 2;
    imap = source_open(input);
    (void)next_item(input, imap);
    (void)next_item(input, imap);
    expect_timeout(imap, MTASK_MS(2));
    ck_assert_uint_ge(self.parks, 1);
    mtask_word_store(&self.canceled, 1);
    ck_assert_status(mtask_imap_next(imap, &item, MTASK_FOREVER), MTASK_CANCELED);
    mtask_word_store(&self.canceled, 0);
    mtask_event_set(&input->go);
    for (size_t i = 2; i < 10; i++)
        ck_assert_uint_eq(next_item(input, imap).index, i);
    check_done(imap);
    mtask_word_store(&self.canceled, 1); /* close is no cancellation point */
    source_close(input, imap);
    parked_end(&self, last);
    end_pool(pool);
}
END_TEST

START_TEST(a_canceled_coroutine_can_close_an_imap) {
    mtask_pool *pool = open_pool(2);
    source *input = source_make(pool, ENDLESS);
    mtask_imap *imap;
    testing_crowd crowd;
    parked_task self;
    mtask__task *last = parked_begin(&self);
    input->hold_item = 0;
    imap = source_open(input);
    await_word(&input->running, 1);
    testing_crowd_start(&crowd, 1, let_go, input);
    mtask_word_store(&self.canceled, 1);
    mtask_imap_close(imap);
    ck_assert(mtask_event_is_set(&input->go));
    testing_crowd_join(&crowd);
    free(input);
    parked_end(&self, last);
    end_pool(pool);
}
END_TEST

START_TEST(a_coroutine_is_parked_while_futures_are_pending) {
    mtask_future *futures[2], *future;
    mtask_completed *completed;
    parked_task self;
    mtask__task *last = parked_begin(&self);
    futures[0] = promise();
    futures[1] = start_thread(rest, (void *)(intptr_t)5);
    completed = as_completed(futures, 2);
    ck_assert_uint_eq(next_completed(completed, futures, MTASK_FOREVER), 1);
    ck_assert_uint_ge(self.parks, 1);
    mtask_word_store(&self.canceled, 1);
    ck_assert_status(mtask_completed_next(completed, &future, NULL, MTASK_FOREVER), MTASK_CANCELED);
    mtask_word_store(&self.canceled, 0);
    set(futures[0]);
    ck_assert_uint_eq(next_completed(completed, futures, MTASK_FOREVER), 0);
    mtask_completed_close(completed);
    release_all(futures, 2);
    parked_end(&self, last);
    ck_assert_status(mtask_thread_join_all(MTASK_FOREVER), MTASK_OK);
}
END_TEST

TESTING_MAIN(
    "mtask_pool_imap", imap_gives_all_results_in_order, imap_unordered_gives_each_result_once,
    imap_works_on_the_default_pool, ordered_results_wait_for_the_one_before,
    unordered_results_come_as_they_are_ready, all_workers_take_part,
    no_more_is_pulled_than_it_may_be_ahead, an_imap_works_ahead,
    the_input_is_never_pulled_twice_at_once, an_empty_input_gives_nothing,
    an_item_that_fails_does_not_stop_the_others, a_result_stays_until_the_next_call,
    a_failure_of_the_input_ends_it, an_imap_needs_its_functions, after_a_time_out_it_goes_on,
    results_come_while_the_input_waits, buffers_of_any_size_are_aligned,
    a_few_buffers_are_used_again_and_again, buffers_are_reused_as_they_were_left,
    an_endless_input_can_be_left, destroy_does_what_waits_but_does_not_wait_for_a_forgotten_imap,
    closing_nothing_is_allowed, close_waits_for_what_runs,
    close_does_not_wait_for_what_has_not_begun,
    an_imap_that_has_not_begun_is_canceled_with_its_pool,
    an_imap_that_runs_ends_when_its_pool_is_terminated, terminate_wakes_who_waits_for_a_result,
    a_closed_pool_takes_no_imap, an_imap_on_a_broken_pool_says_so,
    a_pool_that_is_closed_does_the_imaps_it_has, a_task_may_iterate_on_its_own_pool,
    a_task_may_iterate_on_another_pool, imaps_may_be_nested, imaps_may_be_chained,
    many_threads_and_tasks_may_iterate_at_once, futures_of_any_origin_come_once_each,
    no_futures_are_all_completed, null_is_no_future_to_complete,
    a_future_that_stands_there_twice_comes_once, futures_come_in_the_order_in_which_they_end,
    after_a_time_out_futures_still_come, who_waits_is_woken_by_each_of_them,
    the_iterator_holds_its_futures, futures_that_are_left_pending_may_end_later,
    ten_thousand_futures_are_allowed, an_iterator_may_be_left_while_futures_end,
    a_task_may_iterate_over_tasks_of_its_own_pool, a_task_may_iterate_over_tasks_of_another_pool,
    a_coroutine_is_parked_while_a_map_or_a_loop_runs, a_canceled_coroutine_leaves_no_map_behind,
    a_coroutine_is_parked_while_it_waits_for_a_result, a_canceled_coroutine_can_close_an_imap,
    a_coroutine_is_parked_while_futures_are_pending)
