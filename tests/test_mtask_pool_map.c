/* test_mtask_pool_map.c - map over arrays: items, chunks, failures, progress, without waiting */
#include "testing_pool.h"

/* ---- helpers ---- */

/* Waits for a future and gives it back. */
static mtask_status take(mtask_future *future, mtask_outcome *outcome) {
    mtask_status status = mtask_future_get(future, outcome, MTASK_FOREVER);
    mtask_future_release(future);
    return status;
}

/* An array to map over, on the heap so that a late access is caught. */
typedef struct field {
    mtask_map_desc map;
    long *in; /* item i is i */
    long *out;
    mtask_status *statuses;
    mtask_word *runs; /* how often each item was done */
    mtask_word progress;
} field;

/* Counts the item; returns its index. */
static size_t count_run(const void *in, void *ctx) {
    field *self = (field *)ctx;
    size_t index = (size_t)((const long *)in - self->in);
    testing_check(index < self->map.count && *(const long *)in == (long)index);
    mtask_word_add(&self->runs[index], 1);
    return index;
}

static void square(const void *in, void *out, void *ctx) {
    long item = (long)count_run(in, ctx);
    testing_check((long *)out == ((field *)ctx)->out + item);
    *(long *)out = item * item;
}

static void *allocate(size_t size) {
    void *memory = calloc(1, size + 1);
    testing_check(memory != NULL);
    return memory;
}

static void field_make(field *self, size_t count, mtask_item_fn fn) {
    memset(self, 0, sizeof *self);
    self->in = (long *)allocate(count * sizeof(long));
    self->out = (long *)allocate(count * sizeof(long));
    self->statuses = (mtask_status *)allocate(count * sizeof(mtask_status));
    self->runs = (mtask_word *)allocate(count * sizeof(mtask_word));
    for (size_t i = 0; i < count; i++) {
        self->in[i] = (long)i;
        self->out[i] = -1;
        self->statuses[i] = MTASK_STATUS_COUNT;
    }
    self->map.fn = fn;
    self->map.ctx = self;
    self->map.count = count;
    self->map.in = self->in;
    self->map.in_size = sizeof(long);
    self->map.out = self->out;
    self->map.out_size = sizeof(long);
    self->map.statuses = self->statuses;
    self->map.progress = &self->progress;
}

static void field_free(field *self) {
    free(self->in);
    free(self->out);
    free(self->statuses);
    free(self->runs);
}

/* Fails unless every item was squared once. */
static void check_squares(const field *self) {
    for (size_t i = 0; i < self->map.count; i++) {
        testing_check(self->runs[i] == 1);
        testing_check(self->out[i] == (long)(i * i));
        testing_check(self->statuses[i] == MTASK_OK);
    }
    testing_check(mtask_word_load(&self->progress) == (mtask_word)self->map.count);
}

static void check_untouched(const field *self) {
    for (size_t i = 0; i < self->map.count; i++)
        testing_check(self->runs[i] == 0 && self->out[i] == -1);
}

/* Squares `count` items on the pool, in chunks. */
static void map_squares(mtask_pool *pool, size_t count, size_t chunk) {
    field self;
    mtask_outcome outcome;
    field_make(&self, count, square);
    self.map.chunk = chunk;
    ck_assert_status(mtask_pool_map(pool, &self.map, &outcome), MTASK_OK);
    check_squares(&self);
    field_free(&self);
}

/* ---- items ---- */

START_TEST(map_does_each_item_once) {
    static const size_t counts[] = {0, 1, 2, 3, 7, 16, 100, 1000};
    static const size_t chunks[] = {0, 1, 2, 3, 99, 100, 101, 5000, SIZE_MAX};
    for (unsigned workers = 1; workers <= 5; workers += 2) {
        mtask_pool *pool = open_pool(workers);
        for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
            for (size_t k = 0; k < sizeof chunks / sizeof *chunks; k++)
                map_squares(pool, counts[i], chunks[k]);
        end_pool(pool);
    }
}
END_TEST

START_TEST(map_works_on_the_default_pool) {
    map_squares(NULL, 1000, 0);
    map_squares(NULL, 3, 1);
}
END_TEST

static void never(const void *in, void *out, void *ctx) {
    (void)in;
    (void)out;
    (void)ctx;
    testing_check(false);
}

START_TEST(a_map_without_items_is_done_at_once) {
    mtask_pool *pool = open_pool(2);
    mtask_map_desc map = {.fn = never};
    mtask_status status = MTASK_STATUS_COUNT;
    mtask_word progress = 0;
    mtask_future *future;
    mtask_outcome outcome;
    map.statuses = &status;
    map.progress = &progress;
    ck_assert_status(mtask_pool_map(pool, &map, NULL), MTASK_OK);
    ck_assert_status(mtask_pool_map_async(pool, &map, &future), MTASK_OK);
    ck_assert_status(take(future, &outcome), MTASK_OK);
    ck_assert_ptr_null(outcome.value);
    ck_assert_int_eq(status, MTASK_STATUS_COUNT);
    ck_assert_uint_eq(mtask_word_load(&progress), 0);
    end_pool(pool);
}
END_TEST

static void count_no_arrays(const void *in, void *out, void *ctx) {
    testing_check(in == NULL && out == NULL);
    mtask_word_add((mtask_word *)ctx, 1);
}

static void count_in_only(const void *in, void *out, void *ctx) {
    testing_check(in != NULL && out == NULL);
    mtask_word_add((mtask_word *)ctx, *(const mtask_word *)in);
}

static void write_out_only(const void *in, void *out, void *ctx) {
    testing_check(in == NULL && out != NULL);
    *(mtask_word *)out = mtask_word_add((mtask_word *)ctx, 1);
}

START_TEST(both_arrays_may_be_left_out) {
    enum { N = 50 };
    mtask_pool *pool = open_pool(2);
    mtask_word array[N], count = 0;
    mtask_map_desc map = {.fn = count_no_arrays, .ctx = &count, .count = N};
    ck_assert_status(mtask_pool_map(pool, &map, NULL), MTASK_OK);
    ck_assert_uint_eq(count, N);
    map.in_size = map.out_size = sizeof array[0];
    map.fn = write_out_only;
    map.out = array;
    count = 0;
    ck_assert_status(mtask_pool_map(pool, &map, NULL), MTASK_OK);
    map.fn = count_in_only;
    map.in = array;
    map.out = NULL;
    count = 0;
    ck_assert_status(mtask_pool_map(pool, &map, NULL), MTASK_OK);
    ck_assert_uint_eq(count, N * (N - 1) / 2); /* each number was written once */
    end_pool(pool);
}
END_TEST

enum { WIDE = 1000, NARROW = 3 };

static void narrow(const void *in, void *out, void *ctx) {
    const unsigned char *bytes = (const unsigned char *)in;
    (void)ctx;
    for (int i = 0; i < WIDE; i++)
        testing_check(bytes[i] == bytes[0]);
    memset(out, bytes[0], NARROW);
}

START_TEST(items_of_any_size_lie_side_by_side) {
    enum { N = 200 };
    mtask_pool *pool = open_pool(3);
    unsigned char *in = (unsigned char *)allocate(N * WIDE);
    unsigned char *out = (unsigned char *)allocate(N * NARROW);
    mtask_map_desc map = {.fn = narrow, .count = N, .in = in, .in_size = WIDE};
    map.out = out;
    map.out_size = NARROW;
    for (int i = 0; i < N; i++)
        memset(in + i * WIDE, i, WIDE);
    ck_assert_status(mtask_pool_map(pool, &map, NULL), MTASK_OK);
    for (int i = 0; i < N * NARROW; i++)
        ck_assert_int_eq(out[i], i / NARROW);
    free(in);
    free(out);
    end_pool(pool);
}
END_TEST

/* The threads that have done an item of some map. */
typedef struct roll {
    pthread_mutex_t lock;
    unsigned count;
    int64_t tids[8];
} roll;

static void call_the_roll(const void *in, void *out, void *ctx) {
    roll *self = (roll *)ctx;
    int64_t tid = syscall(SYS_gettid);
    unsigned i = 0;
    (void)in;
    (void)out;
    testing_check(pthread_mutex_lock(&self->lock) == 0);
    while (i < self->count && self->tids[i] != tid)
        i++;
    testing_check(i < 8);
    self->tids[i] = tid;
    self->count = i == self->count ? i + 1 : self->count;
    testing_check(pthread_mutex_unlock(&self->lock) == 0);
    testing_pause(1); /* time for the others to come */
}

/* Maps until all workers have taken part; if one never does, this hangs. */
START_TEST(all_workers_take_part) {
    for (unsigned workers = 1; workers <= 6; workers++) {
        mtask_pool *pool = open_pool(workers);
        roll self = {.lock = PTHREAD_MUTEX_INITIALIZER};
        mtask_map_desc map = {.fn = call_the_roll, .ctx = &self, .chunk = 1};
        map.count = 2 * workers;
        while (self.count < workers)
            ck_assert_status(mtask_pool_map(pool, &map, NULL), MTASK_OK);
        ck_assert_uint_eq(self.count, workers); /* and nobody else */
        end_pool(pool);
    }
}
END_TEST

/* ---- chunks ---- */

/* One item waits, until what the others can do without it has been seen. */
typedef struct held {
    field field;
    size_t index; /* of the one */
    mtask_word done;
    mtask_event go;
} held;

static void hold_one(const void *in, void *out, void *ctx) {
    held *self = (held *)ctx;
    if (count_run(in, &self->field) == self->index)
        ck_assert_status(mtask_event_wait(&self->go, MTASK_FOREVER), MTASK_OK);
    else
        mtask_word_add(&self->done, 1);
    (void)out;
}

static mtask_future *held_start(held *self, mtask_pool *pool, size_t count, size_t chunk,
                                size_t index) {
    mtask_future *future;
    memset(self, 0, sizeof *self);
    field_make(&self->field, count, hold_one);
    self->field.map.ctx = self;
    self->field.map.chunk = chunk;
    self->index = index;
    ck_assert_status(mtask_pool_map_async(pool, &self->field.map, &future), MTASK_OK);
    return future;
}

static void held_end(held *self, mtask_future *future) {
    mtask_event_set(&self->go);
    ck_assert_status(take(future, NULL), MTASK_OK);
    for (size_t i = 0; i < self->field.map.count; i++)
        testing_check(self->field.runs[i] == 1 && self->field.statuses[i] == MTASK_OK);
    ck_assert_uint_eq(mtask_word_load(&self->field.progress), self->field.map.count);
    field_free(&self->field);
}

/* If the first item of a chunk is held up, just the rest of its chunk stays undone. */
static void check_chunk(unsigned workers, size_t count, size_t chunk, size_t size, size_t index) {
    mtask_pool *pool = open_pool(workers);
    held self;
    mtask_future *future = held_start(&self, pool, count, chunk, index);
    await_word(&self.done, (mtask_word)(count - size));
    testing_pause(3); /* time for one that should not be done */
    ck_assert_uint_eq(mtask_word_load(&self.done), count - size);
    held_end(&self, future);
    end_pool(pool);
}

START_TEST(a_worker_takes_a_chunk_at_a_time) {
    check_chunk(2, 100, 1, 1, 0);
    check_chunk(2, 100, 1, 1, 57);
    check_chunk(2, 100, 10, 10, 0);
    check_chunk(2, 100, 10, 10, 40);
    check_chunk(2, 100, 7, 7, 49);
    check_chunk(3, 100, 7, 2, 98); /* the last one is shorter */
    check_chunk(2, 100, 100, 100, 0);
    check_chunk(2, 100, SIZE_MAX, 100, 0);
}
END_TEST

START_TEST(a_chunk_is_a_quarter_of_a_workers_share_by_default) {
    check_chunk(2, 80, 0, 10, 0);
    check_chunk(2, 81, 0, 11, 0); /* rounded up */
    check_chunk(2, 81, 0, 4, 77);
    check_chunk(2, 70, 0, 9, 9);
    check_chunk(2, 8, 0, 1, 3);
    check_chunk(2, 7, 0, 1, 0);
    check_chunk(2, 9, 0, 2, 0);
    check_chunk(4, 160, 0, 10, 150);
}
END_TEST

START_TEST(progress_can_be_read_while_it_runs) {
    mtask_pool *pool = open_pool(2);
    held self;
    mtask_future *future = held_start(&self, pool, 50, 1, 20);
    await_word(&self.field.progress, 49);
    ck_assert(!mtask_future_done(future));
    ck_assert_uint_eq(mtask_word_load(&self.field.progress), 49);
    held_end(&self, future);
    end_pool(pool);
}
END_TEST

static void ignore(const void *in, void *out, void *ctx) {
    (void)in;
    (void)out;
    (void)ctx;
}

START_TEST(several_maps_may_count_into_one_word) {
    enum { N = 4, COUNT = 1000 };
    mtask_pool *pool = open_pool(3);
    mtask_word progress = (mtask_word)-1000; /* and wraps around */
    mtask_map_desc map = {.fn = ignore, .count = COUNT};
    mtask_future *futures[N];
    map.progress = &progress;
    for (int i = 0; i < N; i++)
        ck_assert_status(mtask_pool_map_async(pool, &map, &futures[i]), MTASK_OK);
    for (int i = 0; i < N; i++)
        ck_assert_status(take(futures[i], NULL), MTASK_OK);
    ck_assert_uint_eq(mtask_word_load(&progress), N * COUNT - 1000);
    end_pool(pool);
}
END_TEST

/* ---- failures ---- */

/* Items whose index has the remainder 3 by 10 fail, each with a text of its own. */
static void fail_some(const void *in, void *out, void *ctx) {
    size_t index = count_run(in, ctx);
    if (index % 10 == 3)
        (void)mtask_fail(index % 20 == 3 ? MTASK_NOT_FOUND : MTASK_CLOSED, "item %d", (int)index);
    *(long *)out = (long)(index * index);
}

static mtask_status status_of(size_t index) {
    if (index % 10 != 3)
        return MTASK_OK;
    return index % 20 == 3 ? MTASK_NOT_FOUND : MTASK_CLOSED;
}

static void check_failures(const field *self, const mtask_outcome *outcome) {
    for (size_t i = 0; i < self->map.count; i++) {
        testing_check(self->runs[i] == 1 && self->out[i] == (long)(i * i));
        ck_assert_status(self->statuses[i], status_of(i));
    }
    ck_assert_uint_eq(mtask_word_load(&self->progress), self->map.count);
    ck_assert_status(outcome->status, MTASK_NOT_FOUND);
    ck_assert_str_eq(outcome->text, "item 3");
    ck_assert_ptr_null(outcome->value);
}

static void map_failures(mtask_pool *pool, size_t chunk) {
    field self;
    mtask_outcome outcome;
    memset(&outcome, 0x5a, sizeof outcome);
    field_make(&self, 200, fail_some);
    self.map.chunk = chunk;
    ck_assert_status(mtask_pool_map(pool, &self.map, &outcome), MTASK_FAILED);
    check_failures(&self, &outcome);
    self.map.statuses = NULL;
    self.map.progress = NULL;
    ck_assert_status(mtask_pool_map(pool, &self.map, NULL), MTASK_FAILED);
    field_free(&self);
}

START_TEST(an_item_that_fails_does_not_stop_the_others) {
    static const size_t chunks[] = {0, 1, 7, 200};
    for (unsigned workers = 1; workers <= 4; workers++) {
        mtask_pool *pool = open_pool(workers);
        for (size_t i = 0; i < sizeof chunks / sizeof *chunks; i++) {
            map_failures(pool, chunks[i]);
            map_squares(pool, 50, chunks[i]); /* nothing of it stays with the workers */
        }
        end_pool(pool);
    }
}
END_TEST

static void fail_plainly(const void *in, void *out, void *ctx) {
    (void)out;
    if (count_run(in, ctx) == 5)
        (void)mtask_fail(MTASK_OK, NULL);
}

START_TEST(a_failure_needs_no_text) {
    mtask_pool *pool = open_pool(1);
    mtask_outcome outcome;
    field self;
    field_make(&self, 8, fail_plainly);
    ck_assert_status(mtask_pool_map(pool, &self.map, &outcome), MTASK_FAILED);
    ck_assert_status(outcome.status, MTASK_FAILED);
    ck_assert_str_eq(outcome.text, "");
    for (size_t i = 0; i < 8; i++)
        ck_assert_status(self.statuses[i], i == 5 ? MTASK_FAILED : MTASK_OK);
    field_free(&self);
    end_pool(pool);
}
END_TEST

/* Fails at the items 2 and 5, but at 2 only when 5 has failed, or the other way round. */
typedef struct race {
    field field;
    size_t first; /* in time */
    mtask_event failed;
} race;

static void fail_in_turn(const void *in, void *out, void *ctx) {
    race *self = (race *)ctx;
    size_t index = count_run(in, &self->field);
    (void)out;
    if (index != 2 && index != 5)
        return;
    if (index != self->first) /* items must not wait for each other, at least not for long */
        (void)mtask_event_wait(&self->failed, MTASK_MS(20));
    (void)mtask_fail(MTASK_BROKEN, "item %d", (int)index);
    mtask_event_set(&self->failed);
}

START_TEST(the_first_failure_is_the_one_of_the_lowest_index) {
    for (int round = 0; round < 20; round++) {
        mtask_pool *pool = open_pool(2);
        mtask_outcome outcome;
        race self;
        memset(&self, 0, sizeof self);
        field_make(&self.field, 9, fail_in_turn);
        self.field.map.ctx = &self;
        self.field.map.chunk = 1;
        self.first = round % 2 == 0 ? 5 : 2;
        ck_assert_status(mtask_pool_map(pool, &self.field.map, &outcome), MTASK_FAILED);
        ck_assert_status(outcome.status, MTASK_BROKEN);
        ck_assert_str_eq(outcome.text, "item 2");
        field_free(&self.field);
        end_pool(pool);
    }
}
END_TEST

static void *fail_as_job(void *arg) {
    return mtask_fail(MTASK_OVERFLOW, "job %d", *(const int *)arg);
}

static void fail_in_job(const void *in, void *out, void *ctx) {
    int number = (int)count_run(in, ctx);
    mtask_job job;
    (void)out;
    ck_assert_status(mtask_job_spawn(&job, fail_as_job, &number), MTASK_OK);
    ck_assert_status(mtask_job_sync(&job, NULL), MTASK_FAILED);
}

START_TEST(the_failure_of_a_job_in_place_is_that_of_its_item) {
    mtask_pool *pool = open_pool(1);
    mtask_outcome outcome;
    field self;
    field_make(&self, 4, fail_in_job);
    ck_assert_status(mtask_pool_map(pool, &self.map, &outcome), MTASK_FAILED);
    ck_assert_str_eq(outcome.text, "job 0");
    for (size_t i = 0; i < 4; i++)
        ck_assert_status(self.statuses[i], MTASK_OVERFLOW);
    field_free(&self);
    end_pool(pool);
}
END_TEST

/* Fails, and then does other things that succeed, in the same worker. */
static void fail_and_go_on(const void *in, void *out, void *ctx) {
    size_t index = count_run(in, ctx);
    (void)out;
    (void)mtask_fail(MTASK_AUTH, "before item %d went on", (int)index);
    map_squares(mtask_pool_current(), 20, 1);
}

START_TEST(a_failure_stays_whatever_its_item_does_then) {
    for (unsigned workers = 1; workers <= 3; workers++) {
        mtask_pool *pool = open_pool(workers);
        mtask_outcome outcome;
        field self;
        field_make(&self, 10, fail_and_go_on);
        ck_assert_status(mtask_pool_map(pool, &self.map, &outcome), MTASK_FAILED);
        ck_assert_str_eq(outcome.text, "before item 0 went on");
        for (size_t i = 0; i < 10; i++)
            ck_assert_status(self.statuses[i], MTASK_AUTH);
        field_free(&self);
        end_pool(pool);
    }
}
END_TEST

static void *fail_as_task(void *arg) {
    (void)arg;
    return mtask_fail(MTASK_OVERFLOW, "a task");
}

/* Sees other tasks fail, which is no failure of its own. */
static void see_failures(const void *in, void *out, void *ctx) {
    mtask_pool *pool = mtask_pool_current();
    mtask_future *future;
    (void)count_run(in, ctx);
    (void)out;
    map_failures(pool, 10);
    ck_assert_status(mtask_pool_submit(pool, fail_as_task, NULL, &future), MTASK_OK);
    ck_assert_status(take(future, NULL), MTASK_FAILED);
}

START_TEST(failures_of_other_tasks_are_not_its_own) {
    for (unsigned workers = 1; workers <= 3; workers++) {
        mtask_pool *pool = open_pool(workers);
        field self;
        field_make(&self, 10, see_failures);
        ck_assert_status(mtask_pool_map(pool, &self.map, NULL), MTASK_OK);
        for (size_t i = 0; i < 10; i++)
            ck_assert_status(self.statuses[i], MTASK_OK);
        field_free(&self);
        end_pool(pool);
    }
}
END_TEST

/* What a task failed with before its map, it can still tell after it. */
static void *map_after_failure(void *arg) {
    mtask_outcome outcome;
    (void)mtask_fail(MTASK_CLOSED, "long ago");
    map_squares(mtask_pool_current(), 50, 1);
    ck_assert_status(mtask_failure(&outcome), MTASK_CLOSED);
    testing_check(strcmp(outcome.text, "long ago") == 0);
    return arg;
}

START_TEST(a_map_does_not_touch_what_its_caller_failed_with) {
    for (unsigned workers = 1; workers <= 2; workers++) {
        mtask_pool *pool = open_pool(workers);
        run_task(pool, map_after_failure, NULL);
        end_pool(pool);
    }
}
END_TEST

/* ---- what it refuses ---- */

START_TEST(a_map_needs_a_function) {
    mtask_pool *pool = open_pool(1);
    mtask_map_desc map = {0};
    mtask_future *future = NULL;
    ck_assert_status(mtask_pool_map(pool, &map, NULL), MTASK_INVALID);
    ck_assert_status(mtask_pool_map_async(pool, &map, &future), MTASK_INVALID);
    map.count = 10;
    ck_assert_status(mtask_pool_map(pool, &map, NULL), MTASK_INVALID);
    ck_assert_status(mtask_pool_map_async(pool, &map, &future), MTASK_INVALID);
    end_pool(pool);
}
END_TEST

START_TEST(a_closed_pool_takes_no_map) {
    mtask_pool *pool = open_pool(2);
    mtask_future *future = NULL;
    field self;
    field_make(&self, 10, square);
    ck_assert_status(mtask_pool_close(pool), MTASK_OK);
    ck_assert_status(mtask_pool_map(pool, &self.map, NULL), MTASK_CLOSED);
    ck_assert_status(mtask_pool_map_async(pool, &self.map, &future), MTASK_CLOSED);
    ck_assert_status(mtask_pool_join(pool, MTASK_FOREVER), MTASK_OK);
    check_untouched(&self);
    field_free(&self);
    end_pool(pool);
}
END_TEST

static void *fail_to_begin(void *arg) {
    (void)arg;
    return mtask_fail(MTASK_NOT_FOUND, "no licence");
}

/* Also if the first thread only fails when the map has been submitted. */
START_TEST(a_broken_pool_takes_no_map) {
    for (int round = 0; round < 50; round++) {
        mtask_pool_desc desc = {0};
        mtask_map_desc map = {.fn = ignore, .count = 3};
        mtask_pool *pool;
        desc.workers = 2;
        desc.init = fail_to_begin;
        ck_assert_status(mtask_pool_create(&pool, &desc), MTASK_OK);
        for (int i = 0; i < 3; i++)
            ck_assert_status(mtask_pool_map(pool, &map, NULL), MTASK_BROKEN);
        end_pool(pool);
    }
}
END_TEST

/* ---- where it is called ---- */

static void *map_here(void *arg) {
    map_squares((mtask_pool *)arg, 100, 0);
    map_squares((mtask_pool *)arg, 100, 1);
    return arg;
}

START_TEST(a_task_may_map_on_its_own_pool) {
    for (unsigned workers = 1; workers <= 3; workers++) {
        mtask_pool *pool = open_pool(workers);
        run_task(pool, map_here, pool);
        end_pool(pool);
    }
}
END_TEST

START_TEST(a_task_may_map_on_another_pool) {
    mtask_pool *pool = open_pool(1), *other = open_pool(1);
    run_task(pool, map_here, other);
    run_task(pool, map_here, NULL);
    end_pool(pool);
    end_pool(other);
}
END_TEST

/* An item that maps, whose items map, and so on, on one pool after the other. */
typedef struct nest {
    mtask_pool *pools[2];
    int depth;
    mtask_word leaves;
} nest;

typedef struct nest_level {
    nest *nest;
    int level;
} nest_level;

static void descend(const void *in, void *out, void *ctx) {
    const nest_level *self = (const nest_level *)ctx;
    nest_level below = {self->nest, self->level + 1};
    mtask_map_desc map = {.fn = descend, .ctx = &below, .count = 3, .chunk = 1};
    (void)in;
    (void)out;
    if (self->level == self->nest->depth)
        mtask_word_add(&self->nest->leaves, 1);
    else
        ck_assert_status(mtask_pool_map(self->nest->pools[self->level % 2], &map, NULL), MTASK_OK);
}

static void check_nest(mtask_pool *even, mtask_pool *odd) {
    nest self = {{even, odd}, 4, 0};
    nest_level top = {&self, 0};
    descend(NULL, NULL, &top);
    ck_assert_uint_eq(self.leaves, 81);
}

START_TEST(maps_may_be_nested) {
    for (unsigned workers = 1; workers <= 3; workers++) {
        mtask_pool *pool = open_pool(workers);
        check_nest(pool, pool);
        end_pool(pool);
    }
}
END_TEST

START_TEST(maps_may_be_nested_in_turns_on_two_pools) {
    for (unsigned workers = 1; workers <= 2; workers++) {
        mtask_pool *pool = open_pool(workers), *other = open_pool(1);
        check_nest(pool, other);
        end_pool(pool);
        end_pool(other);
    }
}
END_TEST

typedef struct visitors {
    mtask_pool *pool;
    uint64_t seed;
    int64_t start;
} visitors;

static void map_at_random(testing_member *self) {
    const visitors *play = (const visitors *)self->arg;
    testing_random random = testing_random_make(play->seed, (unsigned)self->index);
    long rounds = testing_scale(2000);
    for (long round = 0; round < rounds && testing_has_time(play->start); round++) {
        size_t chunk = testing_below(&random, 2) == 0 ? 0 : 1 + testing_below(&random, 20);
        map_squares(play->pool, testing_below(&random, 60), chunk);
        if (testing_below(&random, 8) == 0)
            map_failures(play->pool, chunk);
    }
}

START_TEST(many_threads_may_map_at_once) {
    visitors play = {open_pool(3), testing_seed(), mtask_now()};
    testing_crowd crowd;
    testing_crowd_start(&crowd, 4, map_at_random, &play);
    testing_crowd_join(&crowd);
    end_pool(play.pool);
}
END_TEST

/* ---- without waiting ---- */

START_TEST(map_async_ends_with_the_value_null) {
    for (unsigned workers = 1; workers <= 3; workers++) {
        mtask_pool *pool = open_pool(workers);
        mtask_map_desc copied;
        mtask_future *future;
        mtask_outcome outcome;
        field self;
        memset(&outcome, 0x5a, sizeof outcome);
        field_make(&self, 100, square);
        copied = self.map;
        ck_assert_status(mtask_pool_map_async(pool, &copied, &future), MTASK_OK);
        memset(&copied, 0x5a, sizeof copied); /* it has its own */
        ck_assert_status(take(future, &outcome), MTASK_OK);
        ck_assert_status(outcome.status, MTASK_OK);
        ck_assert_ptr_null(outcome.value);
        check_squares(&self);
        field_free(&self);
        end_pool(pool);
    }
}
END_TEST

START_TEST(map_async_ends_as_the_first_item_that_failed) {
    for (unsigned workers = 1; workers <= 3; workers++) {
        mtask_pool *pool = open_pool(workers);
        mtask_future *future;
        mtask_outcome outcome;
        field self;
        memset(&outcome, 0x5a, sizeof outcome);
        field_make(&self, 100, fail_some);
        ck_assert_status(mtask_pool_map_async(pool, &self.map, &future), MTASK_OK);
        ck_assert_status(take(future, &outcome), MTASK_FAILED);
        check_failures(&self, &outcome);
        field_free(&self);
        end_pool(pool);
    }
}
END_TEST

static void count_end(mtask_future *future, void *ctx) {
    testing_check(mtask_future_done(future));
    mtask_word_add((mtask_word *)ctx, 1);
}

START_TEST(the_callback_of_map_async_comes_when_all_is_done) {
    mtask_pool *pool = open_pool(2);
    mtask_word ends = 0;
    held self;
    mtask_future *future = held_start(&self, pool, 20, 1, 19);
    ck_assert_status(mtask_future_then(future, count_end, &ends), MTASK_OK);
    await_word(&self.done, 19);
    testing_pause(3);
    ck_assert_uint_eq(mtask_word_load(&ends), 0);
    ck_assert_status(mtask_future_get(future, NULL, MTASK_NOWAIT), MTASK_TIMEOUT);
    held_end(&self, future);
    await_word(&ends, 1);
    end_pool(pool);
    ck_assert_uint_eq(mtask_word_load(&ends), 1);
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

START_TEST(a_map_that_has_not_begun_can_be_canceled) {
    occupation busy;
    mtask_pool *pool = open_busy_pool(&busy);
    mtask_future *future;
    mtask_outcome outcome;
    field self;
    field_make(&self, 100, square);
    ck_assert_status(mtask_pool_map_async(pool, &self.map, &future), MTASK_OK);
    ck_assert(!mtask_future_running(future));
    ck_assert_status(mtask_future_cancel(future), MTASK_OK);
    ck_assert_status(take(future, &outcome), MTASK_CANCELED);
    ck_assert_status(outcome.status, MTASK_CANCELED);
    check_untouched(&self);
    field_free(&self); /* nobody looks at it any more */
    mtask_event_set(&busy.end);
    map_squares(pool, 100, 0); /* behind it */
    end_pool(pool);
}
END_TEST

START_TEST(a_map_that_has_begun_cannot_be_canceled) {
    mtask_pool *pool = open_pool(1);
    held self;
    mtask_future *future = held_start(&self, pool, 20, 1, 7);
    await_word(&self.field.runs[7], 1);
    ck_assert_status(mtask_future_cancel(future), MTASK_INVALID);
    ck_assert(mtask_future_running(future));
    held_end(&self, future);
    end_pool(pool);
}
END_TEST

/* Cancels maps that begin at the same moment: either nothing of one is done or all. */
START_TEST(a_map_is_canceled_or_done_as_a_whole) {
    testing_random random = testing_random_make(testing_seed(), 0);
    mtask_pool *pool = open_pool(2);
    int64_t start = mtask_now();
    long canceled = 0;
    for (long round = testing_scale(3000); round > 0 && testing_has_time(start); round--) {
        mtask_future *future;
        mtask_status status;
        field self;
        field_make(&self, 30, square);
        self.map.chunk = testing_below(&random, 4);
        ck_assert_status(mtask_pool_map_async(pool, &self.map, &future), MTASK_OK);
        testing_dawdle(&random, 4000);
        status = mtask_future_cancel(future);
        testing_check(status == MTASK_OK || status == MTASK_INVALID);
        ck_assert_status(take(future, NULL), status == MTASK_OK ? MTASK_CANCELED : MTASK_OK);
        if (status == MTASK_OK)
            check_untouched(&self);
        else
            check_squares(&self);
        canceled += status == MTASK_OK;
        field_free(&self);
    }
    fprintf(stderr, "%ld maps were cancelled\n", canceled);
    end_pool(pool);
}
END_TEST

/* ---- the end of the pool ---- */

START_TEST(a_pool_that_is_closed_does_the_maps_it_has) {
    enum { N = 5 };
    for (unsigned workers = 1; workers <= 3; workers++) {
        mtask_pool *pool = open_pool(workers);
        field fields[N];
        mtask_future *futures[N];
        for (int i = 0; i < N; i++) {
            field_make(&fields[i], 100, square);
            ck_assert_status(mtask_pool_map_async(pool, &fields[i].map, &futures[i]), MTASK_OK);
        }
        end_pool(pool);
        for (int i = 0; i < N; i++) {
            check_squares(&fields[i]);
            ck_assert_status(mtask_future_get(futures[i], NULL, MTASK_NOWAIT), MTASK_OK);
            mtask_future_release(futures[i]);
            field_free(&fields[i]);
        }
    }
}
END_TEST

START_TEST(terminate_cancels_a_map_that_has_not_begun) {
    occupation busy;
    mtask_pool *pool = open_busy_pool(&busy);
    mtask_future *future;
    field self;
    field_make(&self, 100, square);
    ck_assert_status(mtask_pool_map_async(pool, &self.map, &future), MTASK_OK);
    ck_assert_status(mtask_pool_terminate(pool), MTASK_OK);
    ck_assert_status(take(future, NULL), MTASK_CANCELED);
    check_untouched(&self);
    field_free(&self);
    mtask_event_set(&busy.end);
    end_pool(pool);
}
END_TEST

static void end_in_the_middle(const void *in, void *out, void *ctx) {
    if (count_run(in, ctx) == 25)
        ck_assert_status(mtask_pool_terminate(mtask_pool_current()), MTASK_OK);
    *(long *)out = *(const long *)in;
}

/* Whatever has become of the map, nobody touches its arrays when it has returned. */
START_TEST(a_map_in_a_terminated_pool_ends) {
    for (unsigned workers = 1; workers <= 3; workers++)
        for (int waits = 0; waits < 2; waits++) {
            mtask_pool *pool = open_pool(workers);
            mtask_future *future;
            mtask_status status;
            field self;
            field_make(&self, 50, end_in_the_middle);
            self.map.chunk = 1;
            if (waits)
                status = mtask_pool_map(pool, &self.map, NULL);
            else if ((status = mtask_pool_map_async(pool, &self.map, &future)) == MTASK_OK)
                status = take(future, NULL);
            testing_check(status == MTASK_OK || status == MTASK_CANCELED);
            for (size_t i = 0; i < 50; i++)
                testing_check(self.runs[i] == 1 || (status != MTASK_OK && self.runs[i] == 0));
            field_free(&self);
            end_pool(pool);
        }
}
END_TEST

/* ---- a small backlog ---- */

static mtask_pool *open_narrow_pool(unsigned workers, bool reject) {
    mtask_pool_desc desc = {0};
    mtask_pool *pool = NULL;
    desc.workers = workers;
    desc.backlog = 1;
    desc.reject = reject;
    ck_assert_status(mtask_pool_create(&pool, &desc), MTASK_OK);
    return pool;
}

START_TEST(a_map_needs_no_more_of_the_backlog_than_a_task) {
    for (unsigned workers = 1; workers <= 4; workers++)
        for (int reject = 0; reject < 2; reject++) {
            mtask_pool *pool = open_narrow_pool(workers, reject != 0);
            map_squares(pool, 100, 1);
            map_squares(pool, 1000, 0);
            run_task(pool, map_here, pool);
            end_pool(pool);
        }
}
END_TEST

START_TEST(a_full_backlog_rejects_a_map) {
    occupation busy;
    mtask_pool *pool = open_narrow_pool(1, true);
    mtask_future *future = NULL;
    field self;
    memset(&busy, 0, sizeof busy);
    field_make(&self, 100, square);
    ck_assert_status(mtask_pool_post(pool, stay_busy, &busy), MTASK_OK);
    await_word(&busy.begun, 1);
    ck_assert_status(mtask_pool_post(pool, stay_busy, &busy), MTASK_OK);
    ck_assert_status(mtask_pool_map(pool, &self.map, NULL), MTASK_FULL);
    ck_assert_status(mtask_pool_map_async(pool, &self.map, &future), MTASK_FULL);
    mtask_event_set(&busy.end);
    end_pool(pool);
    check_untouched(&self);
    field_free(&self);
}
END_TEST

TESTING_MAIN("mtask_pool_map", map_does_each_item_once, map_works_on_the_default_pool,
             a_map_without_items_is_done_at_once, both_arrays_may_be_left_out,
             items_of_any_size_lie_side_by_side, all_workers_take_part,
             a_worker_takes_a_chunk_at_a_time, a_chunk_is_a_quarter_of_a_workers_share_by_default,
             progress_can_be_read_while_it_runs, several_maps_may_count_into_one_word,
             an_item_that_fails_does_not_stop_the_others, a_failure_needs_no_text,
             the_first_failure_is_the_one_of_the_lowest_index,
             the_failure_of_a_job_in_place_is_that_of_its_item,
             a_failure_stays_whatever_its_item_does_then, failures_of_other_tasks_are_not_its_own,
             a_map_does_not_touch_what_its_caller_failed_with, a_map_needs_a_function,
             a_closed_pool_takes_no_map, a_broken_pool_takes_no_map, a_task_may_map_on_its_own_pool,
             a_task_may_map_on_another_pool, maps_may_be_nested,
             maps_may_be_nested_in_turns_on_two_pools, many_threads_may_map_at_once,
             map_async_ends_with_the_value_null, map_async_ends_as_the_first_item_that_failed,
             the_callback_of_map_async_comes_when_all_is_done,
             a_map_that_has_not_begun_can_be_canceled, a_map_that_has_begun_cannot_be_canceled,
             a_map_is_canceled_or_done_as_a_whole, a_pool_that_is_closed_does_the_maps_it_has,
             terminate_cancels_a_map_that_has_not_begun, a_map_in_a_terminated_pool_ends,
             a_map_needs_no_more_of_the_backlog_than_a_task, a_full_backlog_rejects_a_map)
