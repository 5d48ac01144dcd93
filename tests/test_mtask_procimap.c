/* test_mtask_procimap.c - what a pool of processes does to many items: map, map_async, imap */
#include "testing_procpool.h"

/* ---- map: results ---- */

/* A map of numbers that are all different. */
typedef struct numbers {
    mtask_procmap_desc desc;
    long *in;
    long *out;
    mtask_status *statuses;
    mtask_word progress;
} numbers;

static void numbers_open(numbers *self, mtask_bytes_fn fn, size_t count, size_t chunk) {
    memset(self, 0, sizeof *self);
    self->in = (long *)malloc(count * sizeof(long) + 1);
    self->out = (long *)malloc(count * sizeof(long) + 1);
    self->statuses = (mtask_status *)malloc(count * sizeof(mtask_status) + 1);
    testing_check(self->in != NULL && self->out != NULL && self->statuses != NULL);
    for (size_t i = 0; i < count; i++) {
        self->in[i] = (long)i;
        self->out[i] = -1;
        self->statuses[i] = MTASK_STATUS_COUNT;
    }
    self->desc.fn = fn;
    self->desc.count = count;
    self->desc.in = self->in;
    self->desc.out = self->out;
    self->desc.in_size = self->desc.out_size = sizeof(long);
    self->desc.statuses = self->statuses;
    self->desc.chunk = chunk;
    self->desc.progress = &self->progress;
}

/* From now on nobody may touch them. */
static void numbers_free(numbers *self) {
    free(self->in);
    free(self->out);
    free(self->statuses);
}

/* Fails the test unless items [begin, end) ended so. */
static void check_statuses(const numbers *self, size_t begin, size_t end, mtask_status status) {
    for (size_t i = begin; i < end; i++) {
        ck_assert_status(self->statuses[i], status);
        testing_check(status != MTASK_OK || self->out[i] == (long)(i * i));
    }
}

static void map_squares(mtask_procpool *pool, size_t count, size_t chunk) {
    mtask_outcome outcome;
    numbers all;
    numbers_open(&all, square, count, chunk);
    memset(&outcome, 0x5a, sizeof outcome);
    ck_assert_status(mtask_procpool_map(pool, &all.desc, &outcome, MTASK_FOREVER), MTASK_OK);
    ck_assert_status(outcome.status, MTASK_OK);
    check_statuses(&all, 0, count, MTASK_OK);
    testing_check(mtask_word_load(&all.progress) == count);
    numbers_free(&all);
}

START_TEST(a_map_does_all_items) {
    static const size_t counts[] = {0, 1, 2, 5, 64, 1000};
    static const size_t chunks[] = {0, 1, 3, 64, 5000};
    for (unsigned workers = 1; workers <= 3; workers++) {
        mtask_procpool *pool = open_procpool(workers);
        for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
            for (size_t k = 0; k < sizeof chunks / sizeof *chunks; k++)
                map_squares(pool, counts[i], chunks[k]);
        end_procpool(pool);
    }
}
END_TEST

START_TEST(a_map_of_many_single_items_is_done) {
    mtask_procpool *pool = open_procpool(2);
    map_squares(pool, (size_t)testing_scale(20000), 1);
    end_procpool(pool);
}
END_TEST

/* Items of these sizes and results of others, whole messages of them in a chunk. */
static void map_sizes(mtask_procpool *pool, size_t chunk) {
    static const size_t sizes[] = {8, 9, 500, MTASK_PROCPOOL_INLINE, 20000, 8, 300000, 8, 70, 8};
    enum { ITEMS = sizeof sizes / sizeof sizes[0] };
    mtask_bytes items[ITEMS];
    mtask_buf outs[ITEMS];
    mtask_procmap_desc map = {.fn = exchange, .count = ITEMS, .items = items, .outs = outs};
    map.chunk = chunk;
    for (int i = 0; i < ITEMS; i++) {
        size_t wanted = sizes[(i + 3) % ITEMS] - 8;
        char *in = (char *)malloc(sizes[i]);
        testing_check(in != NULL);
        make_pattern(in, 0, sizes[i] - sizeof wanted);
        memcpy(in + sizes[i] - sizeof wanted, &wanted, sizeof wanted);
        items[i].data = in;
        items[i].size = sizes[i];
        memset(&outs[i], 0, sizeof outs[i]);
        if (i % 2 == 0)
            ck_assert_status(mtask_buf_append(&outs[i], "is replaced", 11), MTASK_OK);
    }
    ck_assert_status(mtask_procpool_map(pool, &map, NULL, MTASK_FOREVER), MTASK_OK);
    for (int i = 0; i < ITEMS; i++) {
        testing_check(outs[i].size == sizes[(i + 3) % ITEMS] - 8);
        testing_check(holds_pattern(outs[i].data, outs[i].size));
        free((char *)(uintptr_t)items[i].data);
        mtask_buf_free(&outs[i]);
    }
}

START_TEST(items_and_results_of_a_map_have_any_size) {
    mtask_procpool *pool = open_procpool(2);
    map_sizes(pool, 0);
    map_sizes(pool, 1);
    map_sizes(pool, 3);
    map_sizes(pool, 100);
    end_procpool(pool);
}
END_TEST

START_TEST(a_map_may_have_no_inputs_or_no_results) {
    mtask_procpool *pool;
    mtask_procmap_desc none = {.fn = own_pid, .count = 10}, some = {.fn = take_lap, .count = 3};
    const long in[] = {5, 6, 7};
    mtask_buf outs[10];
    memset(outs, 0, sizeof outs);
    open_board();
    pool = open_procpool(2);
    none.outs = outs;
    ck_assert_status(mtask_procpool_map(pool, &none, NULL, MTASK_FOREVER), MTASK_OK);
    for (int i = 0; i < 10; i++) {
        ck_assert_uint_eq(outs[i].size, sizeof(long));
        mtask_buf_free(&outs[i]);
    }
    some.in = in;
    some.in_size = sizeof in[0];
    ck_assert_status(mtask_procpool_map(pool, &some, NULL, MTASK_FOREVER), MTASK_OK);
    for (int i = 0; i < 10; i++)
        ck_assert_uint_eq(shared->ran[i], i >= 5 && i < 8);
    end_procpool(pool);
}
END_TEST

START_TEST(a_map_that_cannot_be_is_not_begun) {
    mtask_procpool *pool = open_procpool(1);
    mtask_procmap_desc map = {.count = 1};
    mtask_future *future = NULL;
    ck_assert_status(mtask_procpool_map(pool, &map, NULL, MTASK_FOREVER), MTASK_INVALID);
    ck_assert_status(mtask_procpool_map_async(pool, &map, &future), MTASK_INVALID);
    map.fn = echo;
    ck_assert_status(mtask_procpool_map(pool, &map, NULL, -1), MTASK_INVALID);
    ck_assert_ptr_null(future);
    ck_assert_status(mtask_procpool_close(pool), MTASK_OK);
    ck_assert_status(mtask_procpool_map(pool, &map, NULL, MTASK_FOREVER), MTASK_CLOSED);
    ck_assert_status(mtask_procpool_map_async(pool, &map, &future), MTASK_CLOSED);
    ck_assert_ptr_null(future);
    ck_assert_status(mtask_procpool_destroy(pool), MTASK_OK);
}
END_TEST

START_TEST(chunks_are_of_such_a_size_that_each_worker_has_some) {
    mtask_procpool *pool = open_procpool(2);
    mtask_procpool_stats stats;
    map_squares(pool, 100, 0); /* 13 at a time */
    stats = mtask_procpool_get_stats(pool);
    ck_assert_uint_eq(stats.completed, 8);
    map_squares(pool, 100, 30);
    stats = mtask_procpool_get_stats(pool);
    ck_assert_uint_eq(stats.completed, 8 + 4);
    ck_assert(stats.pending == 0 && stats.running == 0);
    end_procpool(pool);
}
END_TEST

/* ---- map: failures ---- */

/* Fails, for numbers that leave 5 when divided by 7. */
static mtask_status fail_some(const void *in, size_t size, mtask_buf *out) {
    long number = number_in(in, size);
    if (number % 7 != 5)
        return square(in, size, out);
    (void)mtask_fail(MTASK_NOT_FOUND, "item %ld", number);
    return MTASK_NOT_FOUND;
}

static void map_failures(mtask_procpool *pool, size_t chunk) {
    mtask_outcome outcome;
    numbers all;
    numbers_open(&all, fail_some, 100, chunk);
    ck_assert_status(mtask_procpool_map(pool, &all.desc, &outcome, MTASK_FOREVER), MTASK_FAILED);
    ck_assert_status(outcome.status, MTASK_NOT_FOUND);
    ck_assert_str_eq(outcome.text, "item 5"); /* the first by index */
    ck_assert_ptr_null(outcome.value);
    for (size_t i = 0; i < 100; i++)
        check_statuses(&all, i, i + 1, i % 7 == 5 ? MTASK_NOT_FOUND : MTASK_OK);
    ck_assert_uint_eq(all.progress, 100);
    ck_assert_status(mtask_procpool_map(pool, &all.desc, NULL, MTASK_FOREVER), MTASK_FAILED);
    numbers_free(&all);
}

START_TEST(items_that_fail_do_not_stop_the_others) {
    mtask_procpool *pool = open_procpool(2);
    map_failures(pool, 0);
    map_failures(pool, 1);
    map_failures(pool, 1000);
    end_procpool(pool);
}
END_TEST

/* Results of 5, 6 ... bytes. */
static mtask_status grow(const void *in, size_t size, mtask_buf *out) {
    put_pattern(out, (size_t)number_in(in, size) + 5);
    return MTASK_OK;
}

START_TEST(a_result_must_fit_its_place) {
    mtask_procpool *pool = open_procpool(1);
    mtask_outcome outcome;
    numbers all;
    numbers_open(&all, grow, 6, 2); /* the fourth has 8 bytes */
    ck_assert_status(mtask_procpool_map(pool, &all.desc, &outcome, MTASK_FOREVER), MTASK_FAILED);
    ck_assert_status(outcome.status, MTASK_INVALID);
    for (size_t i = 0; i < 6; i++)
        ck_assert_status(all.statuses[i], i < 3    ? MTASK_INVALID
                                          : i == 3 ? MTASK_OK
                                                   : MTASK_OVERFLOW);
    testing_check(holds_pattern(&all.out[3], sizeof all.out[3]));
    for (size_t i = 4; i < 6; i++)
        testing_check(all.out[i] == -1);
    numbers_free(&all);
    end_procpool(pool);
}
END_TEST

/* Crashes at 33. */
static mtask_status crash_at_33(const void *in, size_t size, mtask_buf *out) {
    if (number_in(in, size) == 33)
        _exit(9);
    return square(in, size, out);
}

START_TEST(a_crash_costs_its_chunk) {
    static const size_t chunks[] = {1, 10, 40, 100};
    mtask_procpool_desc desc = {.workers = 2};
    mtask_procpool *pool = make_mending(desc);
    for (int i = 0; i < 4; i++) {
        size_t chunk = chunks[i], begin = 33 / chunk * chunk;
        size_t end = begin + chunk;
        mtask_outcome outcome;
        numbers all;
        numbers_open(&all, crash_at_33, 100, chunk);
        ck_assert_status(mtask_procpool_map(pool, &all.desc, &outcome, MTASK_FOREVER),
                         MTASK_FAILED);
        ck_assert_status(outcome.status, MTASK_CRASHED);
        ck_assert_str_ne(outcome.text, "");
        check_statuses(&all, 0, begin, MTASK_OK);
        check_statuses(&all, begin, end, MTASK_CRASHED);
        check_statuses(&all, end, 100, MTASK_OK);
        ck_assert_uint_eq(all.progress, 100);
        numbers_free(&all);
    }
    end_procpool(pool);
}
END_TEST

/* Waits at the gate at 33. */
static mtask_status wait_at_33(const void *in, size_t size, mtask_buf *out) {
    if (number_in(in, size) == 33) {
        mtask_word_add(&shared->at_gate, 1);
        await_shared(&shared->gate, 1);
    }
    return square(in, size, out);
}

START_TEST(a_chunk_may_have_a_limit_of_time) {
    mtask_procpool *pool;
    mtask_outcome outcome;
    numbers all;
    open_board();
    pool = open_procpool(2);
    check_works(pool);
    numbers_open(&all, wait_at_33, 100, 10);
    all.desc.time_limit = MTASK_MS(200);
    ck_assert_status(mtask_procpool_map(pool, &all.desc, &outcome, MTASK_FOREVER), MTASK_FAILED);
    ck_assert_status(outcome.status, MTASK_TIMEOUT);
    check_statuses(&all, 0, 30, MTASK_OK);
    check_statuses(&all, 30, 40, MTASK_TIMEOUT);
    check_statuses(&all, 40, 100, MTASK_OK);
    numbers_free(&all);
    end_procpool(pool);
}
END_TEST

START_TEST(a_map_whose_time_is_up_leaves_nothing_behind) {
    mtask_procpool *pool;
    int64_t start;
    numbers all;
    open_board();
    pool = open_procpool(2);
    check_works(pool);
    numbers_open(&all, wait_at_33, 100, 1);
    start = mtask_now();
    ck_assert_status(mtask_procpool_map(pool, &all.desc, NULL, MTASK_MS(30)), MTASK_TIMEOUT);
    ck_assert_int_ge(mtask_now() - start, MTASK_MS(30));
    await_workers(pool, 3); /* what ran has been killed */
    numbers_free(&all);     /* a late access is caught */
    check_works(pool);
    map_squares(pool, 100, 0);
    ck_assert_uint_eq(mtask_procpool_get_stats(pool).pending, 0);
    end_procpool(pool);
}
END_TEST

/* Big items go through a socket while they are worked on: they are the caller's again all the
   same. */
START_TEST(a_map_whose_time_is_up_reads_its_items_no_more) {
    enum { ITEMS = 4, SIZE = 1 << 20 };
    mtask_procpool_desc desc = {.workers = 2};
    mtask_procpool *pool = make_mending(desc);
    testing_random random = testing_random_make(testing_seed(), 0);
    long rounds = testing_scale(100);
    check_works(pool);
    for (long round = 0; round < (rounds < 15 ? 15 : rounds); round++) {
        mtask_procmap_desc map = {.fn = echo, .count = ITEMS, .in_size = SIZE, .chunk = 1};
        int64_t timeout = (int64_t)testing_below(&random, (uint64_t)MTASK_MS(2));
        mtask_status status;
        char *in = (char *)calloc(ITEMS, SIZE), *out = (char *)malloc((size_t)ITEMS * SIZE);
        testing_check(in != NULL && out != NULL);
        map.in = in;
        if (round % 2 == 0) {
            map.out = out;
            map.out_size = SIZE;
        }
        status = mtask_procpool_map(pool, &map, NULL, timeout);
        free(in); /* a late access is caught */
        free(out);
        testing_check(status == MTASK_OK || status == MTASK_TIMEOUT);
    }
    check_works(pool);
    end_procpool(pool);
}
END_TEST

START_TEST(a_map_that_is_terminated_ends) {
    mtask_procpool *pool;
    mtask_outcome outcome;
    mtask_future *future;
    numbers all;
    open_board();
    pool = open_procpool(2);
    numbers_open(&all, wait_at_33, 100, 1);
    ck_assert_status(mtask_procpool_map_async(pool, &all.desc, &future), MTASK_OK);
    await_shared(&shared->at_gate, 1);
    ck_assert_status(mtask_procpool_terminate(pool), MTASK_OK);
    (void)mtask_future_get(future, &outcome, MTASK_FOREVER);
    ck_assert_status(outcome.status, MTASK_CANCELED);
    mtask_future_release(future);
    ck_assert_status(all.statuses[33], MTASK_CANCELED);
    for (size_t i = 0; i < 100; i++)
        if (all.statuses[i] != MTASK_CANCELED)
            check_statuses(&all, i, i + 1, MTASK_OK);
    numbers_free(&all);
    ck_assert_status(mtask_procpool_destroy(pool), MTASK_OK);
}
END_TEST

/* ---- map: who waits ---- */

START_TEST(a_map_goes_on_alone_and_tells_how_far_it_is) {
    mtask_procpool *pool;
    mtask_procmap_desc desc;
    mtask_outcome outcome;
    mtask_future *future;
    numbers all;
    open_board();
    pool = open_procpool(2);
    numbers_open(&all, wait_at_33, 100, 5);
    desc = all.desc;
    ck_assert_status(mtask_procpool_map_async(pool, &desc, &future), MTASK_OK);
    memset(&desc, 0x5a, sizeof desc);
    await_shared(&all.progress, 95); /* all but the chunk that is held */
    testing_pause(2);
    ck_assert_uint_eq(mtask_word_load(&all.progress), 95);
    ck_assert_status(mtask_future_get(future, NULL, MTASK_MS(1)), MTASK_TIMEOUT);
    ck_assert_status(mtask_future_cancel(future), MTASK_INVALID);
    open_gate();
    memset(&outcome, 0x5a, sizeof outcome);
    ck_assert_status(mtask_future_get(future, &outcome, MTASK_FOREVER), MTASK_OK);
    ck_assert_ptr_null(outcome.value);
    check_statuses(&all, 0, 100, MTASK_OK);
    ck_assert_uint_eq(all.progress, 100);
    mtask_future_release(future);
    numbers_free(&all);
    end_procpool(pool);
}
END_TEST

START_TEST(the_failure_of_a_map_is_its_futures) {
    mtask_procpool *pool = open_procpool(2);
    mtask_outcome outcome;
    mtask_future *future;
    numbers all;
    numbers_open(&all, fail_some, 50, 1);
    ck_assert_status(mtask_procpool_map_async(pool, &all.desc, &future), MTASK_OK);
    outcome = take_failure(future, MTASK_NOT_FOUND);
    ck_assert_str_eq(outcome.text, "item 5");
    numbers_free(&all);
    numbers_open(&all, square, 0, 0);
    ck_assert_status(mtask_procpool_map_async(pool, &all.desc, &future), MTASK_OK);
    ck_assert_status(mtask_future_get(future, &outcome, MTASK_FOREVER), MTASK_OK);
    mtask_future_release(future);
    numbers_free(&all);
    end_procpool(pool);
}
END_TEST

START_TEST(a_map_that_has_not_begun_can_be_canceled) {
    mtask_procpool *pool = make_held(one_worker);
    mtask_future *future;
    numbers all;
    numbers_open(&all, take_lap, 100, 10);
    ck_assert_status(mtask_procpool_map_async(pool, &all.desc, &future), MTASK_OK);
    ck_assert(!mtask_future_done(future));
    cancel(future);
    numbers_free(&all);
    open_and_end(pool);
    ck_assert_uint_eq(shared->clock, 0);
}
END_TEST

/* A forgotten map ends, too: the arrays stay until the pool's end. */
START_TEST(a_map_whose_future_is_not_wanted_is_done) {
    mtask_procpool *pool = open_procpool(2);
    mtask_future *future;
    numbers all;
    numbers_open(&all, square, 100, 3);
    ck_assert_status(mtask_procpool_map_async(pool, &all.desc, &future), MTASK_OK);
    mtask_future_release(future);
    end_procpool(pool);
    check_statuses(&all, 0, 100, MTASK_OK);
    numbers_free(&all);
}
END_TEST

static void map_in_thread(testing_member *self) {
    for (int i = 0; i < 5; i++)
        map_squares((mtask_procpool *)self->arg, 200, (size_t)self->index);
}

START_TEST(several_threads_may_map_at_once) {
    mtask_procpool *pool = open_procpool(2);
    testing_crowd crowd;
    testing_crowd_start(&crowd, 4, map_in_thread, pool);
    testing_crowd_join(&crowd);
    end_procpool(pool);
}
END_TEST

/* A small backlog holds a map up, but not for good. */
START_TEST(a_map_may_be_larger_than_the_backlog) {
    mtask_procpool_desc desc = {.workers = 2, .backlog = 3};
    mtask_procpool *pool = make(&desc);
    map_squares(pool, 100, 1);
    end_procpool(pool);
}
END_TEST

typedef struct trip {
    mtask_procpool *pool;
    numbers all;
    mtask_status status;
} trip;

static void *map_in_task(void *arg) {
    trip *self = (trip *)arg;
    self->status = mtask_procpool_map(self->pool, &self->all.desc, NULL, MTASK_FOREVER);
    numbers_free(&self->all); /* a late access is caught */
    return NULL;
}

/* A map waits in a task while this one goes on; then it is let go, or cancelled. */
static void watch_map(mtask_procpool *pool, bool canceled) {
    trip self = {.pool = pool};
    mtask_future *future;
    mtask_word_store(&shared->gate, 0);
    numbers_open(&self.all, wait_at_33, 60, 1);
    future = go(map_in_task, &self);
    for (mtask_word before = mtask_word_load(&shared->at_gate);
         mtask_word_load(&shared->at_gate) == before;)
        ck_assert_status(mtask_sleep(MTASK_US(100)), MTASK_OK);
    ck_assert(!mtask_future_done(future));
    if (canceled)
        (void)mtask_future_cancel(future);
    else
        open_gate();
    ck_assert_status(mtask_future_wait(future, MTASK_FOREVER), MTASK_OK);
    ck_assert_status(self.status, canceled ? MTASK_CANCELED : MTASK_OK);
    mtask_future_release(future);
}

static void *watch_maps(void *arg) {
    watch_map((mtask_procpool *)arg, false);
    watch_map((mtask_procpool *)arg, true);
    return arg;
}

START_TEST(a_task_of_a_loop_is_parked_while_a_map_runs) {
    mtask_procpool *pool;
    open_board();
    pool = open_procpool(2);
    (void)in_loop(watch_maps, pool);
    await_workers(pool, 3); /* what ran has been killed */
    end_procpool(pool);
}
END_TEST

/* ---- imap: helpers ---- */

#define ENDLESS ((size_t)-1)

/* An input of the numbers 0, 1 ..., and all that is to be seen of an imap over it. */
typedef struct source {
    mtask_procimap_desc map;
    mtask_procpool *pool;
    size_t workers;
    size_t count;     /* of numbers */
    size_t next;      /* number */
    size_t ahead;     /* as the contract rounds it */
    size_t asked;     /* calls of next so far that have given, or may give, a result */
    mtask_status end; /* how the input ends: MTASK_DONE, or a failure */
    const char *why;  /* it fails; NULL: it does not say */
    bool ended;       /* the input has said so */
    pthread_t thread; /* that iterates */
} source;

static mtask_status pull(mtask_buf *in, void *ctx) {
    source *self = (source *)ctx;
    long number = (long)self->next;
    testing_check(pthread_equal(self->thread, pthread_self()) && !self->ended && in->size == 0);
    self->ended = self->next == self->count;
    if (self->ended) {
        ck_assert_status(mtask_buf_append(in, "dropped", 7), MTASK_OK);
        if (self->why != NULL)
            (void)mtask_fail(self->end, "%s", self->why);
        return self->end;
    }
    self->next++;
    testing_check(self->next <= self->asked + self->ahead);
    return mtask_buf_append(in, &number, sizeof number);
}

/* The numbers below `count`, of which at most `ahead` (0: the default) are pulled ahead. */
static source *source_make(mtask_procpool *pool, size_t count, size_t ahead, size_t chunk) {
    source *self = (source *)calloc(1, sizeof *self);
    size_t whole = chunk == 0 ? 1 : chunk;
    testing_check(self != NULL);
    self->map.fn = fail_some;
    self->map.input = pull;
    self->map.ctx = self;
    self->map.chunk = chunk;
    self->map.ahead = ahead;
    self->pool = pool;
    self->workers = mtask_procpool_get_stats(pool).workers;
    self->count = count;
    self->end = MTASK_DONE;
    self->thread = pthread_self();
    self->ahead = ahead == 0 ? 2 * self->workers * whole : ahead;
    self->ahead = (self->ahead + whole - 1) / whole * whole;
    return self;
}

static mtask_procimap *source_open(source *self) {
    mtask_procimap *imap = NULL;
    ck_assert_status(mtask_procpool_imap(self->pool, &self->map, &imap), MTASK_OK);
    testing_check(imap != NULL);
    return imap;
}

static void source_close(source *self, mtask_procimap *imap) {
    mtask_procimap_close(imap);
    free(self);
}

/* Fails the test unless the item is what fail_some, or square, makes of its number. */
static void check_item(const mtask_procitem *item, mtask_status status, bool may_fail) {
    char text[MTASK_TEXT_SIZE] = "";
    long number = (long)item->index;
    bool fails = may_fail && number % 7 == 5;
    if (fails)
        snprintf(text, sizeof text, "item %ld", number);
    ck_assert_status(status, fails ? MTASK_FAILED : MTASK_OK);
    ck_assert_status(item->status, fails ? MTASK_NOT_FOUND : MTASK_OK);
    testing_check(item->text != NULL && strcmp(item->text, text) == 0);
    testing_check(item->data != NULL && item->size == (fails ? 0 : sizeof number));
    number *= number;
    testing_check(fails || memcmp(item->data, &number, sizeof number) == 0);
}

/* Takes the next result, which comes without a failure of the input. */
static mtask_procitem next_item(source *self, mtask_procimap *imap) {
    mtask_procitem item;
    mtask_status status;
    memset(&item, 0x5a, sizeof item);
    self->asked++;
    status = mtask_procimap_next(imap, &item, MTASK_FOREVER);
    check_item(&item, status, self->map.fn == fail_some);
    return item;
}

static void check_done(mtask_procimap *imap) {
    mtask_procitem item;
    for (int i = 0; i < 3; i++)
        ck_assert_status(mtask_procimap_next(imap, &item, i == 1 ? MTASK_NOWAIT : MTASK_FOREVER),
                         MTASK_DONE);
}

/* Takes all results; each comes once. */
static void take_all(source *self, mtask_procimap *imap) {
    unsigned char *seen = (unsigned char *)calloc(self->count + 1, 1);
    testing_check(seen != NULL);
    for (size_t i = 0; i < self->count; i++) {
        mtask_procitem item = next_item(self, imap);
        testing_check(item.index < self->count && seen[item.index]++ == 0);
        testing_check(self->map.unordered || item.index == i);
    }
    check_done(imap);
    free(seen);
}

/* ---- imap: results ---- */

static void iterate(mtask_procpool *pool, size_t count, size_t chunk, size_t ahead,
                    bool unordered) {
    source *self = source_make(pool, count, ahead, chunk);
    mtask_procimap *imap;
    self->map.unordered = unordered;
    imap = source_open(self);
    take_all(self, imap);
    source_close(self, imap);
}

static void iterate_over_all(bool unordered) {
    static const size_t counts[] = {0, 1, 2, 5, 64, 130};
    static const size_t chunks[] = {0, 1, 3, 64, 1000};
    static const size_t aheads[] = {0, 1, 7, 100};
    for (unsigned workers = 1; workers <= 3; workers += 2) {
        mtask_procpool *pool = open_procpool(workers);
        for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
            for (size_t k = 0; k < sizeof chunks / sizeof *chunks; k++)
                for (size_t n = 0; n < sizeof aheads / sizeof *aheads; n++)
                    iterate(pool, counts[i], chunks[k], aheads[n], unordered);
        end_procpool(pool);
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

START_TEST(ordered_results_wait_for_the_one_before) {
    mtask_procpool *pool;
    source *self;
    mtask_procimap *imap;
    mtask_procitem item;
    open_board();
    pool = open_procpool(2);
    self = source_make(pool, 60, 8, 1);
    self->map.fn = wait_at_33;
    imap = source_open(self);
    for (size_t i = 0; i < 33; i++)
        ck_assert_uint_eq(next_item(self, imap).index, i);
    self->asked++;
    ck_assert_status(mtask_procimap_next(imap, &item, MTASK_NOWAIT), MTASK_TIMEOUT);
    ck_assert_status(mtask_procimap_next(imap, &item, MTASK_MS(5)), MTASK_TIMEOUT);
    ck_assert_status(mtask_procimap_next(imap, &item, -1), MTASK_INVALID);
    open_gate();
    self->asked--;
    for (size_t i = 33; i < 60; i++)
        ck_assert_uint_eq(next_item(self, imap).index, i);
    check_done(imap);
    source_close(self, imap);
    end_procpool(pool);
}
END_TEST

START_TEST(unordered_results_come_as_they_are_ready) {
    mtask_procpool *pool;
    source *self;
    mtask_procimap *imap = NULL;
    open_board();
    pool = open_procpool(2);
    self = source_make(pool, 60, 6, 1);
    self->map.fn = wait_at_33;
    ck_assert_status(mtask_procpool_imap_unordered(pool, &self->map, &imap), MTASK_OK);
    for (size_t i = 0; i < 59; i++)
        ck_assert_uint_ne(next_item(self, imap).index, 33);
    open_gate();
    ck_assert_uint_eq(next_item(self, imap).index, 33);
    check_done(imap);
    source_close(self, imap);
    end_procpool(pool);
}
END_TEST

START_TEST(an_imap_that_cannot_be_is_not_begun) {
    mtask_procpool *pool = open_procpool(1);
    source *self = source_make(pool, 5, 0, 0);
    mtask_procimap *imap = NULL;
    self->map.fn = NULL;
    ck_assert_status(mtask_procpool_imap(pool, &self->map, &imap), MTASK_INVALID);
    self->map.fn = echo;
    self->map.input = NULL;
    ck_assert_status(mtask_procpool_imap(pool, &self->map, &imap), MTASK_INVALID);
    self->map.input = pull;
    ck_assert_status(mtask_procpool_close(pool), MTASK_OK);
    ck_assert_status(mtask_procpool_imap(pool, &self->map, &imap), MTASK_CLOSED);
    ck_assert_status(mtask_procpool_imap_unordered(pool, &self->map, &imap), MTASK_CLOSED);
    ck_assert_ptr_null(imap);
    ck_assert_uint_eq(self->next, 0);
    source_close(self, NULL);
    ck_assert_status(mtask_procpool_destroy(pool), MTASK_OK);
}
END_TEST

/* Inputs of 8, 2008 ... bytes, each of which asks for as many back. */
static mtask_status pull_big(mtask_buf *in, void *ctx) {
    size_t *next = (size_t *)ctx, size = *next * 2000;
    if (*next == 60)
        return MTASK_DONE;
    ++*next;
    put_pattern(in, size);
    return mtask_buf_append(in, &size, sizeof size);
}

START_TEST(items_of_an_imap_have_any_size) {
    mtask_procpool *pool = open_procpool(2);
    for (size_t chunk = 1; chunk <= 7; chunk += 3) {
        size_t next = 0;
        mtask_procimap_desc map = {.fn = exchange, .input = pull_big, .ctx = &next};
        mtask_procimap *imap;
        mtask_procitem item;
        map.chunk = chunk;
        ck_assert_status(mtask_procpool_imap(pool, &map, &imap), MTASK_OK);
        for (size_t i = 0; i < 60; i++) {
            ck_assert_status(mtask_procimap_next(imap, &item, MTASK_FOREVER), MTASK_OK);
            testing_check(item.index == i && item.size == i * 2000);
            testing_check(item.data != NULL && holds_pattern(item.data, item.size));
        }
        check_done(imap);
        mtask_procimap_close(imap);
    }
    end_procpool(pool);
}
END_TEST

/* ---- imap: laziness ---- */

/* pull looks at each number whether it is too far ahead. */
static void check_laziness(unsigned workers, size_t ahead, size_t chunk, bool unordered) {
    mtask_procpool *pool = open_procpool(workers);
    source *self = source_make(pool, ENDLESS, ahead, chunk);
    mtask_procimap *imap;
    self->map.unordered = unordered;
    imap = source_open(self);
    for (int i = 0; i < 40; i++)
        (void)next_item(self, imap);
    testing_check(self->next >= 40 && self->next <= 40 + self->ahead);
    source_close(self, imap);
    end_procpool(pool);
}

START_TEST(no_more_is_pulled_than_it_may_be_ahead) {
    for (unsigned workers = 1; workers <= 3; workers += 2)
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

static mtask_status count_square(const void *in, size_t size, mtask_buf *out) {
    mtask_word_add(&shared->clock, 1);
    return square(in, size, out);
}

START_TEST(an_imap_works_ahead) {
    mtask_procpool *pool;
    source *self;
    mtask_procimap *imap;
    open_board();
    pool = open_procpool(2);
    self = source_make(pool, ENDLESS, 12, 3);
    self->map.fn = count_square;
    imap = source_open(self);
    (void)next_item(self, imap);
    await_shared(&shared->clock, 12); /* though only one was asked for */
    for (mtask_word i = 2; i <= 30; i++) {
        (void)next_item(self, imap);
        await_shared(&shared->clock, 9 + i / 3 * 3);
    }
    source_close(self, imap);
    end_procpool(pool);
}
END_TEST

/* ---- imap: failures ---- */

/* The input fails after `count` numbers: these come, the failure, and no more. */
static void fail_input(mtask_procpool *pool, size_t count, size_t chunk, bool unordered) {
    source *self = source_make(pool, count, 4, chunk);
    mtask_procimap *imap;
    mtask_procitem item;
    size_t results = 0, failures = 0;
    self->end = MTASK_BROKEN;
    self->why = "it leaks";
    self->map.unordered = unordered;
    imap = source_open(self);
    while (results + failures < count + 1) {
        mtask_status status;
        memset(&item, 0x5a, sizeof item);
        self->asked++;
        status = mtask_procimap_next(imap, &item, MTASK_FOREVER);
        if (status == MTASK_FAILED && item.data == NULL) {
            ck_assert_status(item.status, MTASK_BROKEN);
            ck_assert_str_eq(item.text, "it leaks");
            testing_check(unordered || results == count);
            failures++;
        } else {
            check_item(&item, status, true);
            results++;
        }
    }
    testing_check(results == count && failures == 1);
    check_done(imap);
    source_close(self, imap);
}

START_TEST(a_failure_of_the_input_ends_it) {
    mtask_procpool *pool = open_procpool(2);
    for (int unordered = 0; unordered < 2; unordered++) {
        fail_input(pool, 0, 1, unordered != 0);
        fail_input(pool, 1, 1, unordered != 0);
        fail_input(pool, 10, 1, unordered != 0);
        fail_input(pool, 10, 4, unordered != 0);
    }
    end_procpool(pool);
}
END_TEST

START_TEST(the_input_may_fail_without_a_text) {
    mtask_procpool *pool = open_procpool(1);
    source *self = source_make(pool, 0, 0, 0);
    mtask_procimap *imap;
    mtask_procitem item;
    self->end = MTASK_NOMEM;
    (void)mtask_fail(MTASK_NOMEM, "of something else");
    imap = source_open(self);
    ck_assert_status(mtask_procimap_next(imap, &item, MTASK_FOREVER), MTASK_FAILED);
    ck_assert_ptr_null(item.data);
    ck_assert_status(item.status, MTASK_NOMEM);
    ck_assert_str_eq(item.text, "");
    check_done(imap);
    source_close(self, imap);
    end_procpool(pool);
}
END_TEST

/* Takes 60 items of which those of the chunk with 33 ended so. */
static void lose_a_chunk(source *self, mtask_status lost) {
    size_t chunk = self->map.chunk, begin = 33 / chunk * chunk;
    mtask_procimap *imap = source_open(self);
    for (size_t i = 0; i < 60; i++) {
        mtask_procitem item;
        mtask_status status;
        self->asked++;
        status = mtask_procimap_next(imap, &item, MTASK_FOREVER);
        testing_check(self->map.unordered || item.index == i);
        if (item.index < begin || item.index >= begin + chunk) {
            check_item(&item, status, false);
            continue;
        }
        ck_assert_status(status, MTASK_FAILED);
        ck_assert_status(item.status, lost);
        testing_check(item.data != NULL && item.size == 0);
        testing_check(lost != MTASK_CRASHED || item.text[0] != '\0');
    }
    check_done(imap);
    source_close(self, imap);
}

START_TEST(a_crash_costs_its_chunk_of_an_imap) {
    mtask_procpool_desc desc = {.workers = 2};
    mtask_procpool *pool = make_mending(desc);
    for (size_t chunk = 1; chunk <= 10; chunk += 3)
        for (int unordered = 0; unordered < 2; unordered++) {
            source *self = source_make(pool, 60, 0, chunk);
            self->map.fn = crash_at_33;
            self->map.unordered = unordered != 0;
            lose_a_chunk(self, MTASK_CRASHED);
        }
    end_procpool(pool);
}
END_TEST

/* Never ends at 33. */
static mtask_status stall_at_33(const void *in, size_t size, mtask_buf *out) {
    while (number_in(in, size) == 33)
        testing_pause(1000);
    return square(in, size, out);
}

START_TEST(a_chunk_of_an_imap_may_have_a_limit_of_time) {
    mtask_procpool_desc desc = {.workers = 2};
    mtask_procpool *pool = make_mending(desc);
    source *self = source_make(pool, 60, 0, 4);
    self->map.fn = stall_at_33;
    self->map.time_limit = MTASK_MS(150);
    lose_a_chunk(self, MTASK_TIMEOUT);
    end_procpool(pool);
}
END_TEST

/* ---- imap: its end ---- */

START_TEST(an_imap_may_be_left_anywhere) {
    static const size_t places[] = {0, 1, 5, 10, 59, 60};
    mtask_procpool *pool = open_procpool(2);
    for (size_t i = 0; i < sizeof places / sizeof *places; i++)
        for (int unordered = 0; unordered < 2; unordered++) {
            source *self = source_make(pool, 60, 0, 4);
            mtask_procimap *imap;
            self->map.unordered = unordered != 0;
            imap = source_open(self);
            for (size_t k = 0; k < places[i]; k++)
                (void)next_item(self, imap);
            source_close(self, imap);
        }
    check_works(pool);
    mtask_procimap_close(NULL);
    end_procpool(pool);
}
END_TEST

START_TEST(closing_an_imap_cancels_what_has_not_begun) {
    mtask_procpool *pool;
    source *self;
    mtask_procimap *imap;
    mtask_procitem item;
    open_board();
    pool = open_procpool(1);
    self = source_make(pool, 60, 50, 1);
    self->map.fn = wait_at_gate;
    imap = source_open(self);
    ck_assert_status(mtask_procimap_next(imap, &item, MTASK_NOWAIT), MTASK_TIMEOUT);
    await_shared(&shared->at_gate, 1);
    source_close(self, imap); /* does not wait for the gate */
    open_gate();
    check_works(pool);
    end_procpool(pool);
    ck_assert_uint_eq(shared->at_gate, 1);
}
END_TEST

START_TEST(an_imap_on_a_pool_that_is_closed_gives_what_it_has) {
    mtask_procpool *pool = open_procpool(2);
    source *self = source_make(pool, ENDLESS, 10, 1);
    mtask_procimap *imap = source_open(self);
    mtask_procitem item;
    mtask_status status;
    size_t pulled;
    for (int i = 0; i < 10; i++)
        (void)next_item(self, imap);
    ck_assert_status(mtask_procpool_close(pool), MTASK_OK);
    pulled = self->next;
    for (size_t i = 10;; i++) {
        self->asked++;
        status = mtask_procimap_next(imap, &item, MTASK_FOREVER);
        if (status == MTASK_CLOSED)
            break;
        testing_check(item.index == i && i < pulled);
        check_item(&item, status, true);
    }
    ck_assert_uint_le(self->next, pulled + 1); /* not pulled on and on */
    ck_assert_status(mtask_procimap_next(imap, &item, MTASK_FOREVER), MTASK_CLOSED);
    source_close(self, imap);
    end_procpool(pool);
}
END_TEST

START_TEST(an_imap_on_a_pool_that_is_terminated_ends) {
    mtask_procpool *pool;
    source *self;
    mtask_procimap *imap;
    mtask_procitem item;
    mtask_status status;
    open_board();
    pool = open_procpool(1);
    self = source_make(pool, ENDLESS, 10, 1);
    self->map.fn = wait_at_gate;
    imap = source_open(self);
    ck_assert_status(mtask_procimap_next(imap, &item, MTASK_NOWAIT), MTASK_TIMEOUT);
    await_shared(&shared->at_gate, 1);
    ck_assert_status(mtask_procpool_terminate(pool), MTASK_OK);
    while ((status = mtask_procimap_next(imap, &item, MTASK_FOREVER)) == MTASK_FAILED) {
        ck_assert_status(item.status, MTASK_CANCELED);
        self->asked++;
    }
    ck_assert_status(status, MTASK_CLOSED);
    source_close(self, imap);
    ck_assert_status(mtask_procpool_destroy(pool), MTASK_OK);
}
END_TEST

START_TEST(a_forked_child_cannot_use_an_imap) {
    mtask_procpool *pool = open_procpool(1);
    source *self = source_make(pool, 20, 0, 0);
    mtask_procimap *imap = source_open(self);
    pid_t child;
    (void)next_item(self, imap);
    child = fork_child();
    if (child == 0) {
        mtask_procitem item;
        IN_CHILD(mtask_procimap_next(imap, &item, MTASK_FOREVER) == MTASK_BROKEN);
        if (!TESTING_ASAN && !TESTING_TSAN)
            mtask_procimap_close(imap);
        _exit(0);
    }
    reap(child);
    for (size_t i = 1; i < 20; i++)
        ck_assert_uint_eq(next_item(self, imap).index, i);
    check_done(imap);
    source_close(self, imap);
    end_procpool(pool);
}
END_TEST

/* ---- imap: who iterates ---- */

static void iterate_in_thread(testing_member *self) {
    for (int i = 0; i < 3; i++)
        iterate((mtask_procpool *)self->arg, 200, (size_t)self->index, 0, self->index % 2 == 1);
}

START_TEST(several_threads_may_iterate_at_once) {
    mtask_procpool *pool = open_procpool(2);
    testing_crowd crowd;
    testing_crowd_start(&crowd, 4, iterate_in_thread, pool);
    testing_crowd_join(&crowd);
    end_procpool(pool);
}
END_TEST

/* An imap over the results of another one on the same pool. */
typedef struct inner {
    source *self;
    mtask_procimap *imap;
} inner;

static mtask_status pull_inner(mtask_buf *in, void *ctx) {
    inner *all = (inner *)ctx;
    mtask_procitem item;
    mtask_status status;
    all->self->asked++;
    status = mtask_procimap_next(all->imap, &item, MTASK_FOREVER);
    if (status != MTASK_OK)
        return status;
    return mtask_buf_append(in, item.data, item.size);
}

START_TEST(imaps_may_be_chained) {
    mtask_procpool *pool = open_procpool(1);
    inner all = {.self = source_make(pool, 50, 0, 0)};
    mtask_procimap_desc map = {.fn = square, .input = pull_inner, .ctx = &all};
    mtask_procimap *imap;
    mtask_procitem item;
    all.self->map.fn = square;
    all.imap = source_open(all.self);
    ck_assert_status(mtask_procpool_imap(pool, &map, &imap), MTASK_OK);
    for (long i = 0; i < 50; i++) {
        long number = i * i * i * i;
        ck_assert_status(mtask_procimap_next(imap, &item, MTASK_FOREVER), MTASK_OK);
        testing_check(item.index == (size_t)i && item.size == sizeof number);
        testing_check(memcmp(item.data, &number, sizeof number) == 0);
    }
    check_done(imap);
    mtask_procimap_close(imap);
    source_close(all.self, all.imap);
    end_procpool(pool);
}
END_TEST

typedef struct tour {
    source *self;
    mtask_status status;
    mtask_word ended;
} tour;

static void *iterate_in_task(void *arg) {
    tour *all = (tour *)arg;
    mtask_procimap *imap = source_open(all->self);
    mtask_procitem item;
    do
        all->self->asked++;
    while ((all->status = mtask_procimap_next(imap, &item, MTASK_FOREVER)) == MTASK_OK);
    mtask_procimap_close(imap);
    all->ended = 1;
    return NULL;
}

static void watch_imap(mtask_procpool *pool, bool canceled) {
    tour all = {.self = source_make(pool, 60, 0, 1)};
    mtask_word before = mtask_word_load(&shared->at_gate);
    mtask_future *future;
    mtask_word_store(&shared->gate, 0);
    all.self->map.fn = wait_at_33;
    future = go(iterate_in_task, &all);
    while (mtask_word_load(&shared->at_gate) == before)
        ck_assert_status(mtask_sleep(MTASK_US(100)), MTASK_OK);
    for (int i = 0; i < 3; i++)
        ck_assert_status(mtask_sleep(MTASK_US(200)), MTASK_OK);
    testing_check(all.ended == 0);
    if (canceled)
        (void)mtask_future_cancel(future);
    else
        open_gate();
    ck_assert_status(mtask_future_wait(future, MTASK_FOREVER), MTASK_OK);
    testing_check(all.ended == 1);
    ck_assert_status(all.status, canceled ? MTASK_CANCELED : MTASK_DONE);
    mtask_future_release(future);
    free(all.self);
}

static void *watch_imaps(void *arg) {
    watch_imap((mtask_procpool *)arg, false);
    watch_imap((mtask_procpool *)arg, true);
    return arg;
}

START_TEST(a_task_of_a_loop_is_parked_while_it_waits_for_a_result) {
    mtask_procpool *pool;
    open_board();
    pool = open_procpool(2);
    (void)in_loop(watch_imaps, pool);
    open_gate();
    check_works(pool);
    end_procpool(pool);
}
END_TEST

/* ---- by each method ---- */

static void map_by(mtask_proc_method method) {
    mtask_procpool_desc desc = {.workers = 2, .method = method};
    mtask_procpool *pool = make(&desc);
    map_squares(pool, 200, 0);
    map_failures(pool, 9);
    map_sizes(pool, 4);
    iterate(pool, 100, 7, 0, false);
    iterate(pool, 100, 1, 0, true);
    end_procpool(pool);
}

START_TEST(maps_work_by_each_method) {
    by_each_method(map_by);
    ck_assert_status(mtask_forkserver_stop(), MTASK_OK);
}
END_TEST

TESTING_PROC_MAIN(
    "mtask_procimap", a_map_does_all_items, a_map_of_many_single_items_is_done,
    items_and_results_of_a_map_have_any_size, a_map_may_have_no_inputs_or_no_results,
    a_map_that_cannot_be_is_not_begun, chunks_are_of_such_a_size_that_each_worker_has_some,
    items_that_fail_do_not_stop_the_others, a_result_must_fit_its_place, a_crash_costs_its_chunk,
    a_chunk_may_have_a_limit_of_time, a_map_whose_time_is_up_leaves_nothing_behind,
    a_map_whose_time_is_up_reads_its_items_no_more, a_map_that_is_terminated_ends,
    a_map_goes_on_alone_and_tells_how_far_it_is, the_failure_of_a_map_is_its_futures,
    a_map_that_has_not_begun_can_be_canceled, a_map_whose_future_is_not_wanted_is_done,
    several_threads_may_map_at_once, a_map_may_be_larger_than_the_backlog,
    a_task_of_a_loop_is_parked_while_a_map_runs, imap_gives_all_results_in_order,
    imap_unordered_gives_each_result_once, ordered_results_wait_for_the_one_before,
    unordered_results_come_as_they_are_ready, an_imap_that_cannot_be_is_not_begun,
    items_of_an_imap_have_any_size, no_more_is_pulled_than_it_may_be_ahead, an_imap_works_ahead,
    a_failure_of_the_input_ends_it, the_input_may_fail_without_a_text,
    a_crash_costs_its_chunk_of_an_imap, a_chunk_of_an_imap_may_have_a_limit_of_time,
    an_imap_may_be_left_anywhere, closing_an_imap_cancels_what_has_not_begun,
    an_imap_on_a_pool_that_is_closed_gives_what_it_has, an_imap_on_a_pool_that_is_terminated_ends,
    a_forked_child_cannot_use_an_imap, several_threads_may_iterate_at_once, imaps_may_be_chained,
    a_task_of_a_loop_is_parked_while_it_waits_for_a_result, maps_work_by_each_method)
