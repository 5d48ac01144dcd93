/* test_mtask_pool_submit.c - tasks of a pool: results, cancelling, callbacks, full backlogs */
#include "testing_pool.h"

/* ---- helpers ---- */

static mtask_pool *make(const mtask_pool_desc *desc) {
    mtask_pool *pool = NULL;
    ck_assert_status(mtask_pool_create(&pool, desc), MTASK_OK);
    ck_assert_ptr_nonnull(pool);
    return pool;
}

static mtask_future *submit(mtask_pool *pool, mtask_fn fn, void *arg) {
    mtask_future *future = NULL;
    ck_assert_status(mtask_pool_submit(pool, fn, arg, &future), MTASK_OK);
    ck_assert_ptr_nonnull(future);
    return future;
}

static mtask_future *submit_desc(mtask_pool *pool, const mtask_task_desc *desc) {
    mtask_future *future = NULL;
    ck_assert_status(mtask_pool_submit_ex(pool, desc, &future, MTASK_FOREVER), MTASK_OK);
    ck_assert_ptr_nonnull(future);
    return future;
}

static void post(mtask_pool *pool, mtask_fn fn, void *arg) {
    ck_assert_status(mtask_pool_post(pool, fn, arg), MTASK_OK);
}

/* Waits for a task that succeeds, and returns its value. */
static void *result(mtask_future *future) {
    mtask_outcome outcome;
    ck_assert_status(mtask_future_get(future, &outcome, MTASK_FOREVER), MTASK_OK);
    mtask_future_release(future);
    return outcome.value;
}

/* What a future says of itself. */
static void check_state(const mtask_future *future, bool done, bool running, bool canceled) {
    ck_assert(mtask_future_done(future) == done);
    ck_assert(mtask_future_running(future) == running);
    ck_assert(mtask_future_canceled(future) == canceled);
}

static void cancel(mtask_future *future) {
    ck_assert_status(mtask_future_cancel(future), MTASK_OK);
    check_state(future, true, false, true);
    mtask_future_release(future);
}

static void *return_arg(void *arg) {
    return arg;
}

static void *fail_always(void *arg) {
    (void)arg;
    return mtask_fail(MTASK_NOT_FOUND, "nothing there");
}

static void *count_one(void *arg) {
    mtask_word_add((mtask_word *)arg, 1);
    return NULL;
}

static mtask_event gate;
static mtask_word at_gate; /* how many have come there */

static void *wait_at_gate(void *arg) {
    mtask_word_add(&at_gate, 1);
    ck_assert_status(mtask_event_wait(&gate, MTASK_FOREVER), MTASK_OK);
    return arg;
}

static mtask_pool_stats stats_of(mtask_pool *pool) {
    mtask_pool_stats stats;
    ck_assert_status(mtask_pool_get_stats(pool, &stats, NULL, 0), MTASK_OK);
    return stats;
}

/* A pool whose workers are all held at the gate, so that whatever is submitted now waits. */
static mtask_pool *make_held(mtask_pool_desc desc) {
    mtask_pool *pool;
    unsigned workers;
    if (desc.workers == 0)
        desc.workers = 1;
    mtask_event_clear(&gate);
    mtask_word_store(&at_gate, 0);
    pool = make(&desc);
    workers = desc.workers;
    for (unsigned i = 0; i < workers; i++) {
        post(pool, wait_at_gate, NULL);
        await_word(&at_gate, i + 1);
    }
    return pool;
}

/* Lets them go, and ends the pool when all is done. */
static void open_and_end(mtask_pool *pool) {
    mtask_event_set(&gate);
    end_pool(pool);
}

static const mtask_pool_desc one_worker = {.workers = 1};

/* ---- results ---- */

START_TEST(a_task_gives_its_value) {
    mtask_pool *pool = open_pool(2);
    mtask_future *future;
    mtask_outcome outcome;
    int value = 0;
    ck_assert_ptr_eq(result(submit(pool, return_arg, &value)), &value);
    ck_assert_ptr_null(result(submit(pool, return_arg, NULL)));
    future = submit(pool, return_arg, &value);
    for (int i = 0; i < 2; i++) {
        memset(&outcome, 0x5a, sizeof outcome);
        ck_assert_status(mtask_future_get(future, &outcome, MTASK_FOREVER), MTASK_OK);
        ck_assert_status(outcome.status, MTASK_OK);
        ck_assert_ptr_eq(outcome.value, &value);
        ck_assert_str_eq(outcome.text, "");
    }
    ck_assert_status(mtask_future_get(future, NULL, MTASK_NOWAIT), MTASK_OK);
    ck_assert_status(mtask_future_get(future, NULL, -1), MTASK_INVALID);
    mtask_future_release(future);
    end_pool(pool);
}
END_TEST

static void *fail_as_told(void *arg) {
    return mtask_fail(*(const mtask_status *)arg, "code %d", *(const int *)arg);
}

START_TEST(a_task_that_fails_tells_status_and_text) {
    mtask_pool *pool = open_pool(2);
    for (int code = 0; code < MTASK_STATUS_COUNT; code++) {
        mtask_status status = (mtask_status)code;
        mtask_future *future = submit(pool, fail_as_told, &status);
        mtask_outcome outcome;
        char text[32];
        snprintf(text, sizeof text, "code %d", code);
        memset(&outcome, 0x5a, sizeof outcome);
        ck_assert_status(mtask_future_get(future, &outcome, MTASK_FOREVER), MTASK_FAILED);
        ck_assert_status(outcome.status, status == MTASK_OK ? MTASK_FAILED : status);
        ck_assert_ptr_null(outcome.value);
        ck_assert_str_eq(outcome.text, text);
        check_state(future, true, false, false);
        mtask_future_release(future);
    }
    end_pool(pool);
}
END_TEST

static void *fail_without_text(void *arg) {
    (void)arg;
    return mtask_fail(MTASK_NOMEM, NULL);
}

static void *fail_with_long_text(void *arg) {
    (void)arg;
    return mtask_fail(MTASK_SYSTEM, "%0300d", 7);
}

START_TEST(the_text_of_a_failure_may_be_missing_or_cut) {
    mtask_pool *pool = open_pool(1);
    mtask_outcome outcome;
    mtask_future *future = submit(pool, fail_without_text, NULL);
    ck_assert_status(mtask_future_get(future, &outcome, MTASK_FOREVER), MTASK_FAILED);
    ck_assert_status(outcome.status, MTASK_NOMEM);
    ck_assert_str_eq(outcome.text, "");
    mtask_future_release(future);
    future = submit(pool, fail_with_long_text, NULL);
    ck_assert_status(mtask_future_get(future, &outcome, MTASK_FOREVER), MTASK_FAILED);
    ck_assert_status(outcome.status, MTASK_SYSTEM);
    ck_assert_uint_eq(strlen(outcome.text), MTASK_TEXT_SIZE - 1);
    mtask_future_release(future);
    end_pool(pool);
}
END_TEST

static void *own_failure(void *arg) {
    mtask_outcome *outcome = (mtask_outcome *)arg;
    testing_check(mtask_failure(outcome) == outcome->status);
    return arg;
}

/* Fails, as it looks, and then thinks better of it. */
static void *fail_and_recover(void *arg) {
    (void)mtask_fail(MTASK_BROKEN, "not so bad");
    return arg;
}

START_TEST(a_failure_stays_with_its_task) {
    mtask_pool *pool = open_pool(1);
    mtask_outcome seen;
    for (int i = 0; i < 2; i++) {
        memset(&seen, 0x5a, sizeof seen);
        post(pool, i == 0 ? fail_always : fail_and_recover, NULL);
        ck_assert_ptr_eq(result(submit(pool, own_failure, &seen)), &seen);
        ck_assert_status(seen.status, MTASK_OK);
        ck_assert_str_eq(seen.text, "");
    }
    ck_assert_ptr_eq(result(submit(pool, fail_and_recover, pool)), pool);
    ck_assert_status(mtask_failure(NULL), MTASK_OK); /* here nothing failed */
    end_pool(pool);
}
END_TEST

START_TEST(a_task_needs_a_function) {
    mtask_pool *pool = open_pool(1);
    mtask_task_desc none = {.arg = pool}, some = {.fn = return_arg};
    mtask_future *future = NULL;
    ck_assert_status(mtask_pool_submit(pool, NULL, NULL, &future), MTASK_INVALID);
    ck_assert_status(mtask_pool_post(pool, NULL, NULL), MTASK_INVALID);
    ck_assert_status(mtask_pool_submit_ex(pool, &none, &future, MTASK_FOREVER), MTASK_INVALID);
    ck_assert_status(mtask_pool_submit_ex(pool, &some, &future, -1), MTASK_INVALID);
    ck_assert_ptr_null(future);
    ck_assert_uint_eq(stats_of(pool).submitted, 0);
    end_pool(pool);
}
END_TEST

START_TEST(a_future_that_is_not_wanted_is_not_needed) {
    mtask_pool *pool = open_pool(2);
    mtask_task_desc task = {.fn = count_one};
    mtask_word ran = 0;
    task.arg = &ran;
    for (int i = 0; i < 100; i++) {
        ck_assert_status(mtask_pool_submit(pool, count_one, &ran, NULL), MTASK_OK);
        ck_assert_status(mtask_pool_submit_ex(pool, &task, NULL, MTASK_FOREVER), MTASK_OK);
        mtask_future_release(submit(pool, count_one, &ran)); /* perhaps before it runs */
    }
    end_pool(pool);
    ck_assert_uint_eq(mtask_word_load(&ran), 300);
}
END_TEST

START_TEST(a_posted_task_drops_what_it_returns) {
    mtask_pool *pool = open_pool(2);
    mtask_word ran = 0;
    for (int i = 0; i < 10; i++) {
        post(pool, return_arg, pool);
        post(pool, fail_always, NULL);
        post(pool, count_one, &ran);
    }
    ck_assert_status(mtask_pool_close(pool), MTASK_OK);
    ck_assert_status(mtask_pool_join(pool, MTASK_FOREVER), MTASK_OK);
    ck_assert_uint_eq(mtask_word_load(&ran), 10);
    ck_assert_uint_eq(stats_of(pool).failed, 10);
    ck_assert_uint_eq(stats_of(pool).done, 30);
    end_pool(pool);
}
END_TEST

static void *own_thread(void *arg) {
    *(pthread_t *)arg = pthread_self();
    return arg;
}

START_TEST(tasks_do_not_run_in_the_thread_that_submits) {
    mtask_pool *pool = open_pool(1);
    pthread_t first, second;
    (void)result(submit(pool, own_thread, &first));
    ck_assert(!pthread_equal(first, pthread_self()));
    (void)result(submit(pool, own_thread, &second));
    ck_assert(pthread_equal(first, second)); /* the one worker */
    end_pool(pool);
}
END_TEST

START_TEST(many_tasks_are_done_once_each) {
    mtask_pool *pool = open_pool(3);
    long count = testing_scale(15000);
    unsigned char *ran = (unsigned char *)calloc((size_t)count, 1);
    mtask_future **futures = (mtask_future **)malloc((size_t)count * sizeof(mtask_future *));
    ck_assert(ran != NULL && futures != NULL);
    for (long i = 0; i < count; i++)
        futures[i] = submit(pool, return_arg, &ran[i]);
    for (long i = 0; i < count; i++)
        ++*(unsigned char *)result(futures[i]);
    for (long i = 0; i < count; i++)
        ck_assert_uint_eq(ran[i], 1);
    ck_assert_uint_eq(stats_of(pool).submitted, (uint64_t)count);
    end_pool(pool);
    free(ran);
    free(futures);
}
END_TEST

/* ---- who runs, and when ---- */

static void *own_id(void *arg) {
    uint64_t id = mtask_task_id();
    sched_yield();
    testing_check(id == mtask_task_id());
    *(uint64_t *)arg = id;
    return NULL;
}

static int compare_ids(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

START_TEST(each_task_has_a_number_of_its_own) {
    enum { TASKS = 600 };
    static uint64_t ids[TASKS + 1];
    mtask_pool *pool = open_pool(3);
    for (int i = 0; i < TASKS; i++) {
        if (i % 2 == 0)
            post(pool, own_id, &ids[i]);
        else
            mtask_future_release(submit(pool, own_id, &ids[i]));
    }
    end_pool(pool);
    ids[TASKS] = mtask_task_id();
    qsort(ids, TASKS + 1, sizeof ids[0], compare_ids);
    ck_assert_uint_ne(ids[0], 0);
    for (int i = 0; i < TASKS; i++)
        ck_assert_uint_ne(ids[i], ids[i + 1]);
}
END_TEST

typedef struct lap {
    mtask_word *clock; /* counts starts */
    mtask_word start;  /* when this one started */
} lap;

static void *take_lap(void *arg) {
    lap *l = (lap *)arg;
    l->start = mtask_word_add(l->clock, 1);
    return NULL;
}

/* Submits task number i, one kind after the other. */
static void submit_lap(mtask_pool *pool, lap *l, int i) {
    mtask_task_desc task = {.fn = take_lap, .arg = l};
    if (i % 3 == 0)
        post(pool, take_lap, l);
    else if (i % 3 == 1)
        mtask_future_release(submit(pool, take_lap, l));
    else
        ck_assert_status(mtask_pool_submit_ex(pool, &task, NULL, MTASK_FOREVER), MTASK_OK);
}

START_TEST(one_worker_starts_tasks_in_order) {
    enum { TASKS = 2000 };
    static lap laps[TASKS];
    mtask_word clock = 0;
    mtask_pool *pool = make_held(one_worker);
    for (int i = 0; i < TASKS; i++) {
        laps[i].clock = &clock;
        submit_lap(pool, &laps[i], i);
        if (i == TASKS / 2)
            mtask_event_set(&gate); /* the rest comes while it works */
    }
    end_pool(pool);
    for (int i = 0; i < TASKS; i++)
        ck_assert_uint_eq(laps[i].start, (mtask_word)i);
}
END_TEST

/* Of those before a task, all but one for each other worker must have started. */
START_TEST(several_workers_start_tasks_in_order) {
    enum { TASKS = 5000, WORKERS = 3 };
    static lap laps[TASKS];
    mtask_word clock = 0;
    mtask_pool *pool = open_pool(WORKERS);
    for (int i = 0; i < TASKS; i++) {
        laps[i].clock = &clock;
        submit_lap(pool, &laps[i], i);
    }
    end_pool(pool);
    for (int i = 0; i < TASKS; i++)
        ck_assert_int_ge((int)laps[i].start, i - (WORKERS - 1));
}
END_TEST

/* Python's test_saturation. */
START_TEST(more_tasks_than_workers_wait_and_start_no_threads) {
    mtask_pool_desc desc = {.workers = 4};
    mtask_pool *pool = make_held(desc);
    mtask_word ran = 0;
    mtask_pool_stats stats;
    for (int i = 0; i < 15 * 4; i++)
        post(pool, count_one, &ran);
    testing_pause(5);
    stats = stats_of(pool);
    ck_assert_uint_eq(stats.threads, 4);
    ck_assert_uint_eq(stats.running, 4);
    ck_assert_uint_eq(stats.pending, 15 * 4);
    ck_assert_uint_eq(mtask_word_load(&ran), 0);
    open_and_end(pool);
    ck_assert_uint_eq(mtask_word_load(&ran), 15 * 4);
}
END_TEST

/* Python's test_idle_thread_reuse. */
START_TEST(idle_workers_are_used_again) {
    enum { WORKERS = 3, TASKS = 60 };
    mtask_pool *pool = open_pool(WORKERS);
    pthread_t threads[TASKS];
    int distinct = 0;
    for (int i = 0; i < TASKS; i++) {
        bool known = false;
        (void)result(submit(pool, own_thread, &threads[i]));
        for (int j = 0; j < i; j++)
            known |= pthread_equal(threads[i], threads[j]) != 0;
        distinct += !known;
    }
    ck_assert_int_le(distinct, WORKERS);
    ck_assert_uint_eq(stats_of(pool).threads, WORKERS);
    end_pool(pool);
}
END_TEST

static void *meet(void *arg) {
    ck_assert_status(mtask_barrier_wait((mtask_barrier *)arg, NULL, MTASK_FOREVER), MTASK_OK);
    return NULL;
}

START_TEST(each_task_wakes_a_sleeping_worker) {
    mtask_pool *pool = open_pool(3);
    mtask_barrier barrier;
    ck_assert_status(mtask_barrier_init(&barrier, 3, NULL, NULL, MTASK_PRIVATE), MTASK_OK);
    for (long i = 0; i < testing_scale(400); i++) {
        mtask_future *futures[3];
        while (i % 2 == 0 && stats_of(pool).idle < 3)
            sched_yield();
        for (int j = 0; j < 3; j++) /* none of them ends before all have begun */
            futures[j] = submit(pool, meet, &barrier);
        for (int j = 0; j < 3; j++)
            (void)result(futures[j]);
    }
    end_pool(pool);
}
END_TEST

/* ---- states, and cancelling ---- */

START_TEST(a_task_is_pending_then_running_then_done) {
    mtask_pool *pool = make_held(one_worker);
    mtask_future *future = submit(pool, wait_at_gate, pool);
    check_state(future, false, false, false);
    ck_assert_status(mtask_future_get(future, NULL, MTASK_NOWAIT), MTASK_TIMEOUT);
    ck_assert_status(mtask_future_get(future, NULL, MTASK_MS(1)), MTASK_TIMEOUT);
    check_state(future, false, false, false); /* nobody but a worker runs it */
    mtask_event_set(&gate);
    ck_assert_status(mtask_future_wait(future, MTASK_FOREVER), MTASK_OK);
    check_state(future, true, false, false);
    ck_assert_ptr_eq(result(future), pool);
    mtask_event_clear(&gate);
    future = submit(pool, wait_at_gate, pool);
    await_word(&at_gate, 3);
    check_state(future, false, true, false);
    ck_assert_status(mtask_future_get(future, NULL, MTASK_MS(1)), MTASK_TIMEOUT);
    mtask_event_set(&gate);
    ck_assert_ptr_eq(result(future), pool);
    end_pool(pool);
}
END_TEST

START_TEST(a_pending_task_can_be_cancelled) {
    mtask_pool *pool = make_held(one_worker);
    mtask_word ran = 0;
    mtask_future *future = submit(pool, count_one, &ran);
    mtask_outcome outcome;
    ck_assert_uint_eq(stats_of(pool).pending, 1);
    ck_assert_status(mtask_future_cancel(future), MTASK_OK);
    ck_assert_uint_eq(stats_of(pool).pending, 0); /* it was taken out */
    ck_assert_uint_eq(stats_of(pool).canceled, 1);
    check_state(future, true, false, true);
    ck_assert_status(mtask_future_cancel(future), MTASK_OK);
    ck_assert_uint_eq(stats_of(pool).canceled, 1);
    memset(&outcome, 0x5a, sizeof outcome);
    ck_assert_status(mtask_future_get(future, &outcome, MTASK_FOREVER), MTASK_CANCELED);
    ck_assert_status(outcome.status, MTASK_CANCELED);
    ck_assert_ptr_null(outcome.value);
    ck_assert_str_eq(outcome.text, "");
    ck_assert_status(mtask_future_wait(future, MTASK_FOREVER), MTASK_OK);
    mtask_future_release(future);
    open_and_end(pool);
    ck_assert_uint_eq(mtask_word_load(&ran), 0);
}
END_TEST

START_TEST(a_task_that_runs_or_has_ended_cannot_be_cancelled) {
    mtask_pool *pool = open_pool(1);
    mtask_future *running = submit(pool, wait_at_gate, pool);
    mtask_future *failed;
    await_word(&at_gate, 1);
    ck_assert_status(mtask_future_cancel(running), MTASK_INVALID);
    check_state(running, false, true, false);
    failed = submit(pool, fail_always, NULL);
    mtask_event_set(&gate);
    ck_assert_status(mtask_future_wait(failed, MTASK_FOREVER), MTASK_OK);
    ck_assert_status(mtask_future_cancel(failed), MTASK_INVALID);
    check_state(failed, true, false, false);
    ck_assert_status(mtask_future_cancel(running), MTASK_INVALID);
    check_state(running, true, false, false);
    ck_assert_ptr_eq(result(running), pool);
    mtask_future_release(failed);
    ck_assert_uint_eq(stats_of(pool).canceled, 0);
    end_pool(pool);
}
END_TEST

static mtask_future *own_future;

static void *cancel_own(void *arg) {
    ck_assert_status(mtask_event_wait(&gate, MTASK_FOREVER), MTASK_OK);
    testing_check(mtask_future_running(own_future));
    ck_assert_status(mtask_future_cancel(own_future), MTASK_INVALID);
    return arg;
}

START_TEST(a_task_cannot_cancel_itself) {
    mtask_pool *pool = open_pool(1);
    own_future = submit(pool, cancel_own, pool);
    mtask_event_set(&gate);
    ck_assert_ptr_eq(result(own_future), pool);
    end_pool(pool);
}
END_TEST

static void *cancel_other(void *arg) {
    ck_assert_status(mtask_future_cancel((mtask_future *)arg), MTASK_OK);
    return NULL;
}

static void *submit_and_cancel(void *arg) {
    cancel(submit(mtask_pool_current(), count_one, arg));
    return NULL;
}

START_TEST(a_task_can_cancel_another) {
    mtask_pool *pool = make_held(one_worker), *other = open_pool(1);
    mtask_word ran = 0;
    mtask_future *future = submit(pool, count_one, &ran);
    (void)result(submit(other, cancel_other, future)); /* of another pool */
    check_state(future, true, false, true);
    mtask_future_release(future);
    (void)result(submit(other, submit_and_cancel, &ran)); /* of its own */
    end_pool(other);
    open_and_end(pool);
    ck_assert_uint_eq(mtask_word_load(&ran), 0);
}
END_TEST

/* Cancels every `step`-th of the tasks that wait, beginning with `first`; the rest keep their
   order. */
static void cancel_some(int first, int step) {
    enum { TASKS = 50 };
    mtask_pool *pool = make_held(one_worker);
    mtask_word clock = 0;
    lap laps[TASKS];
    mtask_future *futures[TASKS];
    mtask_word expected = 0;
    for (int i = 0; i < TASKS; i++) {
        laps[i].clock = &clock;
        laps[i].start = 1000;
        futures[i] = submit(pool, take_lap, &laps[i]);
    }
    for (int i = first; i < TASKS; i += step)
        ck_assert_status(mtask_future_cancel(futures[i]), MTASK_OK);
    open_and_end(pool);
    for (int i = 0; i < TASKS; i++) {
        bool canceled = i >= first && (i - first) % step == 0;
        check_state(futures[i], true, false, canceled);
        ck_assert_uint_eq(laps[i].start, canceled ? 1000 : expected++);
        mtask_future_release(futures[i]);
    }
}

START_TEST(tasks_behind_cancelled_ones_keep_their_order) {
    cancel_some(0, 100); /* the first alone */
    cancel_some(49, 100);
    cancel_some(20, 100);
    cancel_some(0, 2);
    cancel_some(1, 2);
    cancel_some(3, 7);
    cancel_some(10, 1);
    cancel_some(0, 1); /* all */
}
END_TEST

static void get_canceled(testing_member *self) {
    self->status = mtask_future_get((mtask_future *)self->arg, NULL,
                                    self->index % 2 == 0 ? MTASK_FOREVER : MTASK_SEC(60));
}

START_TEST(cancel_wakes_those_who_wait_for_the_task) {
    mtask_pool *pool = make_held(one_worker);
    mtask_future *future = submit(pool, return_arg, NULL);
    testing_crowd crowd;
    testing_crowd_start(&crowd, 4, get_canceled, future);
    testing_crowd_await_asleep(&crowd, 4);
    ck_assert_status(mtask_future_cancel(future), MTASK_OK);
    testing_crowd_join(&crowd);
    ck_assert_int_eq(testing_crowd_count(&crowd, MTASK_CANCELED), 4);
    mtask_future_release(future);
    open_and_end(pool);
}
END_TEST

START_TEST(terminate_wakes_those_who_wait_for_tasks) {
    mtask_pool *pool = make_held(one_worker);
    mtask_future *future = submit(pool, return_arg, NULL);
    testing_crowd crowd;
    testing_crowd_start(&crowd, 4, get_canceled, future);
    testing_crowd_await_asleep(&crowd, 4);
    ck_assert_status(mtask_pool_terminate(pool), MTASK_OK);
    testing_crowd_join(&crowd);
    ck_assert_int_eq(testing_crowd_count(&crowd, MTASK_CANCELED), 4);
    mtask_future_release(future);
    open_and_end(pool);
}
END_TEST

/* ---- cancelled while a worker is about to begin it ---- */

typedef struct race {
    mtask_word ran;
    mtask_word succeeded; /* calls of on_success */
    mtask_word failed;    /* calls of on_failure */
    mtask_word then;      /* calls of the callback added later */
} race;

static void *run_race(void *arg) {
    mtask_word_add(&((race *)arg)->ran, 1);
    return arg;
}

static void race_succeeded(void *value, void *ctx) {
    testing_check(value == ctx);
    mtask_word_add(&((race *)ctx)->succeeded, 1);
}

static void race_failed(const mtask_outcome *outcome, void *ctx) {
    ck_assert_status(outcome->status, MTASK_CANCELED);
    testing_check(outcome->value == NULL);
    mtask_word_add(&((race *)ctx)->failed, 1);
}

static void race_ended(mtask_future *future, void *ctx) {
    race *r = (race *)ctx;
    testing_check(mtask_future_done(future));
    testing_check(mtask_word_load(&r->succeeded) + mtask_word_load(&r->failed) == 1);
    mtask_word_add(&r->then, 1);
}

static mtask_future *submit_race(mtask_pool *pool, race *r) {
    mtask_task_desc task = {.fn = run_race,
                            .arg = r,
                            .on_success = race_succeeded,
                            .on_failure = race_failed,
                            .ctx = r};
    mtask_future *future = submit_desc(pool, &task);
    ck_assert_status(mtask_future_then(future, race_ended, r), MTASK_OK);
    return future;
}

/* Either it ran, or it was cancelled; whoever asked was told which. */
static void check_race(const race *r, mtask_status canceled) {
    bool ran = mtask_word_load(&r->ran) == 1;
    testing_check(canceled == (ran ? MTASK_INVALID : MTASK_OK));
    testing_check(mtask_word_load(&r->ran) == ran);
    testing_check(mtask_word_load(&r->succeeded) == ran);
    testing_check(mtask_word_load(&r->failed) == !ran);
    testing_check(mtask_word_load(&r->then) == 1);
}

START_TEST(a_task_is_run_or_cancelled_never_both_nor_neither) {
    enum { BATCH = 16 };
    testing_random random = testing_random_make(testing_seed(), 0);
    mtask_pool *pool = open_pool(2);
    int64_t start = mtask_now();
    for (long round = 0; round < testing_scale(4000) && testing_has_time(start); round++) {
        race races[BATCH] = {{0}};
        mtask_status status[BATCH];
        mtask_future *futures[BATCH];
        for (int i = 0; i < BATCH; i++)
            futures[i] = submit_race(pool, &races[i]);
        testing_dawdle(&random, testing_below(&random, 2) == 0 ? 4000 : 64);
        for (int i = BATCH - 1; i >= 0; i--)
            status[i] = mtask_future_cancel(futures[i]);
        for (int i = 0; i < BATCH; i++) {
            await_word(&races[i].then, 1); /* it comes last of all */
            check_race(&races[i], status[i]);
            mtask_future_release(futures[i]);
        }
    }
    end_pool(pool);
}
END_TEST

typedef struct hunt {
    mtask_future **futures;
    int count;
    mtask_word canceled; /* how many were told so first */
    uint64_t seed;
} hunt;

static void cancel_at_random(testing_member *self) {
    hunt *h = (hunt *)self->arg;
    testing_random random = testing_random_make(h->seed, (unsigned)self->index);
    for (int i = 0; i < h->count; i++) {
        mtask_future *future = h->futures[testing_below(&random, (uint64_t)h->count)];
        mtask_status status = mtask_future_cancel(future);
        testing_check(status == MTASK_OK || status == MTASK_INVALID);
        testing_check(mtask_future_canceled(future) == (status == MTASK_OK));
    }
}

START_TEST(several_threads_may_cancel_while_tasks_are_done) {
    enum { TASKS = 400 };
    mtask_pool *pool = open_pool(2);
    mtask_future *futures[TASKS];
    hunt h = {.futures = futures, .count = TASKS};
    h.seed = testing_seed();
    for (long round = 0; round < testing_scale(40); round++, h.seed++) {
        mtask_pool_stats before = stats_of(pool), after;
        race races[TASKS] = {{0}};
        mtask_word canceled = 0;
        testing_crowd crowd;
        for (int i = 0; i < TASKS; i++)
            futures[i] = submit_race(pool, &races[i]);
        testing_crowd_start(&crowd, 3, cancel_at_random, &h);
        testing_crowd_join(&crowd);
        for (int i = 0; i < TASKS; i++) {
            bool was = mtask_future_wait(futures[i], MTASK_FOREVER) == MTASK_OK &&
                       mtask_future_canceled(futures[i]);
            await_word(&races[i].then, 1); /* it comes last of all */
            check_race(&races[i], was ? MTASK_OK : MTASK_INVALID);
            canceled += was;
            mtask_future_release(futures[i]);
        }
        do /* a worker that was about to begin one counts it a moment later */
            after = stats_of(pool);
        while (after.running > 0);
        ck_assert_uint_eq(after.canceled - before.canceled, canceled);
        ck_assert_uint_eq(after.pending, 0);
    }
    end_pool(pool);
}
END_TEST

/* Futures stay valid: what is done with them may come in the middle of the pool's end. */
START_TEST(tasks_may_be_cancelled_while_the_pool_is_destroyed) {
    enum { TASKS = 100 };
    mtask_future *futures[TASKS];
    hunt h = {.futures = futures, .count = TASKS};
    h.seed = testing_seed();
    for (long round = 0; round < testing_scale(150); round++, h.seed++) {
        mtask_pool *pool = open_pool(2);
        mtask_word ran = 0, canceled = 0;
        testing_crowd crowd;
        for (int i = 0; i < TASKS; i++)
            futures[i] = submit(pool, count_one, &ran);
        testing_crowd_start(&crowd, 2, cancel_at_random, &h);
        if (round % 3 == 0)
            ck_assert_status(mtask_pool_terminate(pool), MTASK_OK);
        end_pool(pool);
        testing_crowd_join(&crowd);
        for (int i = 0; i < TASKS; i++) {
            ck_assert(mtask_future_done(futures[i]));
            canceled += mtask_future_canceled(futures[i]);
            mtask_future_release(futures[i]);
        }
        ck_assert_uint_eq(mtask_word_load(&ran) + canceled, TASKS);
    }
}
END_TEST

/* ---- large backlogs with holes ---- */

/* What waits in a pool of one worker: futures of those that were not cancelled, in order. */
typedef struct model {
    mtask_pool *pool;
    mtask_word clock;
    int count; /* of tasks, the cancelled ones included */
    mtask_future *futures[2000];
    lap laps[2000];
} model;

/* Submits and cancels at random, and leaves about `left` tasks waiting. */
static void model_shuffle(model *m, testing_random *random, int left) {
    int waiting = 0;
    while (m->count < 2000) {
        uint64_t victim = testing_below(random, (uint64_t)m->count + 1);
        if (waiting < left || testing_below(random, 2) == 0) {
            lap *l = &m->laps[m->count];
            l->clock = &m->clock;
            m->futures[m->count++] = submit(m->pool, take_lap, l);
            waiting++;
        } else if (victim < (uint64_t)m->count && !mtask_future_done(m->futures[victim])) {
            ck_assert_status(mtask_future_cancel(m->futures[victim]), MTASK_OK);
            waiting--;
        }
    }
    ck_assert_uint_eq(stats_of(m->pool).pending, (size_t)waiting);
}

/* Fails the test unless the others have run, in the order in which they were submitted. */
static void model_check(model *m) {
    mtask_word expected = 0;
    for (int i = 0; i < m->count; i++) {
        ck_assert(mtask_future_done(m->futures[i]));
        if (!mtask_future_canceled(m->futures[i]))
            ck_assert_uint_eq(m->laps[i].start, expected++);
        mtask_future_release(m->futures[i]);
    }
    ck_assert_uint_eq(m->clock, expected);
}

START_TEST(a_backlog_with_holes_keeps_its_order) {
    static model m;
    testing_random random = testing_random_make(testing_seed(), 0);
    m.pool = open_pool(1);
    for (int left = 1; left < 2000; left = left * 3 + 1) {
        mtask_future *last;
        m.clock = 0;
        m.count = 0;
        mtask_event_clear(&gate);
        mtask_word_store(&at_gate, 0);
        post(m.pool, wait_at_gate, NULL);
        await_word(&at_gate, 1);
        model_shuffle(&m, &random, left);
        last = submit(m.pool, return_arg, NULL);
        mtask_event_set(&gate);
        (void)result(last);
        model_check(&m);
    }
    end_pool(m.pool);
}
END_TEST

/* ---- callbacks ---- */

/* What was called, in order. */
typedef struct diary {
    mtask_word count;
    char entries[16];
    void *value;
    mtask_outcome outcome;
    mtask_pool *pool; /* of which the last caller was a worker */
    pthread_t thread; /* of the last caller */
} diary;

static void note(diary *d, char entry) {
    mtask_word at = mtask_word_add(&d->count, 1);
    testing_check(at < sizeof d->entries - 1);
    d->entries[at] = entry;
    d->pool = mtask_pool_current();
    d->thread = pthread_self();
}

static void note_success(void *value, void *ctx) {
    ((diary *)ctx)->value = value;
    note((diary *)ctx, 's');
}

static void note_failure(const mtask_outcome *outcome, void *ctx) {
    ((diary *)ctx)->outcome = *outcome;
    note((diary *)ctx, 'f');
}

static void note_1(mtask_future *future, void *ctx) {
    testing_check(mtask_future_done(future));
    note((diary *)ctx, '1');
}

static void note_2(mtask_future *future, void *ctx) {
    testing_check(mtask_future_done(future));
    note((diary *)ctx, '2');
}

static mtask_task_desc with_diary(mtask_fn fn, void *arg, diary *d) {
    mtask_task_desc task = {
        .fn = fn, .arg = arg, .on_success = note_success, .on_failure = note_failure, .ctx = d};
    memset(d, 0, sizeof *d);
    return task;
}

static void add_notes(mtask_future *future, diary *d) {
    ck_assert_status(mtask_future_then(future, note_1, d), MTASK_OK);
    ck_assert_status(mtask_future_then(future, note_2, d), MTASK_OK);
}

START_TEST(callbacks_of_success_run_once_in_order_in_the_worker) {
    mtask_pool *pool = make_held(one_worker);
    diary d;
    mtask_task_desc task = with_diary(return_arg, &d, &d);
    mtask_future *future = submit_desc(pool, &task);
    add_notes(future, &d);
    ck_assert_str_eq(d.entries, "");
    open_and_end(pool);
    ck_assert_str_eq(d.entries, "s12");
    ck_assert_ptr_eq(d.value, &d);
    ck_assert_ptr_eq(d.pool, pool);
    ck_assert_ptr_eq(result(future), &d);
}
END_TEST

START_TEST(callbacks_of_failure_run_once_in_order_in_the_worker) {
    mtask_pool *pool = make_held(one_worker);
    diary d;
    mtask_task_desc task = with_diary(fail_always, NULL, &d);
    mtask_future *future = submit_desc(pool, &task);
    add_notes(future, &d);
    open_and_end(pool);
    ck_assert_str_eq(d.entries, "f12");
    ck_assert_status(d.outcome.status, MTASK_NOT_FOUND);
    ck_assert_str_eq(d.outcome.text, "nothing there");
    ck_assert_ptr_null(d.outcome.value);
    ck_assert_ptr_eq(d.pool, pool);
    mtask_future_release(future);
}
END_TEST

START_TEST(callbacks_of_cancelling_run_once_in_order_where_it_is_done) {
    mtask_pool *pool = make_held(one_worker);
    diary d;
    mtask_task_desc task = with_diary(return_arg, &d, &d);
    mtask_future *future = submit_desc(pool, &task);
    add_notes(future, &d);
    ck_assert_status(mtask_future_cancel(future), MTASK_OK);
    ck_assert_str_eq(d.entries, "f12");
    ck_assert_status(d.outcome.status, MTASK_CANCELED);
    ck_assert_ptr_null(d.outcome.value);
    ck_assert_ptr_null(d.pool);
    ck_assert(pthread_equal(d.thread, pthread_self()));
    ck_assert_status(mtask_future_cancel(future), MTASK_OK);
    ck_assert_status(mtask_pool_terminate(pool), MTASK_OK);
    open_and_end(pool);
    ck_assert_str_eq(d.entries, "f12");
    mtask_future_release(future);
}
END_TEST

/* The future of the task whose callback runs, and what that saw of it. */
typedef struct witness {
    mtask_future *future;
    mtask_word ready; /* the future is known */
    mtask_word done;
    mtask_word running;
} witness;

static void *await_witness(void *arg) {
    await_word(&((witness *)arg)->ready, 1);
    return arg;
}

static void *await_witness_and_fail(void *arg) {
    return fail_always(await_witness(arg));
}

static void see_success(void *value, void *ctx) {
    witness *w = (witness *)ctx;
    testing_check(value == ctx);
    w->done = mtask_future_done(w->future);
    w->running = mtask_future_running(w->future);
}

static void see_failure(const mtask_outcome *outcome, void *ctx) {
    (void)outcome;
    see_success(ctx, ctx);
}

START_TEST(a_worker_runs_callbacks_before_the_future_ends) {
    mtask_pool *pool = open_pool(1);
    for (int failing = 0; failing < 2; failing++) {
        witness w = {.done = 9};
        mtask_task_desc task = {.fn = failing ? await_witness_and_fail : await_witness,
                                .arg = &w,
                                .on_success = see_success,
                                .on_failure = see_failure,
                                .ctx = &w};
        w.future = submit_desc(pool, &task);
        mtask_word_store(&w.ready, 1);
        ck_assert_status(mtask_future_wait(w.future, MTASK_FOREVER), MTASK_OK);
        ck_assert_uint_eq(w.done, 0); /* it has been called: who waits sees what it did */
        ck_assert_uint_eq(w.running, 1);
        mtask_future_release(w.future);
    }
    end_pool(pool);
}
END_TEST

START_TEST(terminate_runs_callbacks_of_all_it_cancels) {
    mtask_pool *pool = make_held(one_worker);
    diary diaries[5];
    for (int i = 0; i < 5; i++) {
        mtask_task_desc task = with_diary(return_arg, NULL, &diaries[i]);
        mtask_future *future = submit_desc(pool, &task);
        add_notes(future, &diaries[i]);
        mtask_future_release(future);
    }
    ck_assert_status(mtask_pool_terminate(pool), MTASK_OK);
    for (int i = 0; i < 5; i++) {
        ck_assert_str_eq(diaries[i].entries, "f12");
        ck_assert_status(diaries[i].outcome.status, MTASK_CANCELED);
        ck_assert(pthread_equal(diaries[i].thread, pthread_self()));
    }
    open_and_end(pool);
}
END_TEST

START_TEST(callbacks_run_without_a_future) {
    mtask_pool *pool = make_held(one_worker);
    diary diaries[3];
    mtask_task_desc task = with_diary(return_arg, pool, &diaries[0]);
    ck_assert_status(mtask_pool_submit_ex(pool, &task, NULL, MTASK_FOREVER), MTASK_OK);
    task = with_diary(fail_always, NULL, &diaries[1]);
    ck_assert_status(mtask_pool_submit_ex(pool, &task, NULL, MTASK_FOREVER), MTASK_OK);
    mtask_event_set(&gate);
    while (stats_of(pool).done < 3)
        testing_pause(1);
    mtask_event_clear(&gate);
    post(pool, wait_at_gate, NULL);
    await_word(&at_gate, 2);
    task = with_diary(return_arg, NULL, &diaries[2]);
    ck_assert_status(mtask_pool_submit_ex(pool, &task, NULL, MTASK_FOREVER), MTASK_OK);
    ck_assert_status(mtask_pool_terminate(pool), MTASK_OK);
    open_and_end(pool);
    ck_assert_str_eq(diaries[0].entries, "s");
    ck_assert_ptr_eq(diaries[0].value, pool);
    ck_assert_str_eq(diaries[1].entries, "f");
    ck_assert_status(diaries[1].outcome.status, MTASK_NOT_FOUND);
    ck_assert_str_eq(diaries[2].entries, "f");
    ck_assert_status(diaries[2].outcome.status, MTASK_CANCELED);
}
END_TEST

START_TEST(callbacks_that_nobody_wants_are_left_out) {
    mtask_pool *pool = make_held(one_worker);
    diary diaries[2];
    mtask_task_desc task = with_diary(return_arg, NULL, &diaries[0]);
    task.on_success = NULL;
    ck_assert_status(mtask_pool_submit_ex(pool, &task, NULL, MTASK_FOREVER), MTASK_OK);
    mtask_future_release(submit_desc(pool, &task));
    task = with_diary(fail_always, NULL, &diaries[1]);
    task.on_failure = NULL;
    ck_assert_status(mtask_pool_submit_ex(pool, &task, NULL, MTASK_FOREVER), MTASK_OK);
    mtask_future_release(submit_desc(pool, &task));
    cancel(submit_desc(pool, &task));
    open_and_end(pool);
    ck_assert_str_eq(diaries[0].entries, "");
    ck_assert_str_eq(diaries[1].entries, "");
}
END_TEST

START_TEST(a_callback_for_a_task_that_has_ended_runs_at_once) {
    mtask_pool *pool = open_pool(1);
    diary d = {0};
    mtask_future *future = submit(pool, return_arg, NULL);
    ck_assert_status(mtask_future_wait(future, MTASK_FOREVER), MTASK_OK);
    end_pool(pool);
    ck_assert_status(mtask_future_then(future, note_1, &d), MTASK_OK);
    ck_assert_str_eq(d.entries, "1");
    ck_assert(pthread_equal(d.thread, pthread_self()));
    mtask_future_release(future);
}
END_TEST

/* A chain of tasks: the callback of each submits the next one. */
typedef struct chain {
    mtask_pool *pool;
    mtask_word left;
} chain;

static void go_on(void *value, void *ctx) {
    chain *c = (chain *)ctx;
    mtask_task_desc task = {.fn = return_arg, .on_success = go_on, .ctx = c};
    (void)value;
    if (mtask_word_add(&c->left, (mtask_word)-1) > 1)
        ck_assert_status(mtask_pool_submit_ex(c->pool, &task, NULL, MTASK_FOREVER), MTASK_OK);
    else
        mtask_event_set(&gate);
}

START_TEST(a_callback_may_submit_tasks) {
    chain c = {.pool = open_pool(1), .left = 500};
    mtask_task_desc task = {.fn = return_arg, .on_success = go_on, .ctx = &c};
    ck_assert_status(mtask_pool_submit_ex(c.pool, &task, NULL, MTASK_FOREVER), MTASK_OK);
    ck_assert_status(mtask_event_wait(&gate, MTASK_FOREVER), MTASK_OK);
    end_pool(c.pool);
    ck_assert_uint_eq(mtask_word_load(&c.left), 0);
}
END_TEST

static void release_future(mtask_future *future, void *ctx) {
    ck_assert_status(mtask_future_get(future, NULL, MTASK_FOREVER), MTASK_OK);
    mtask_future_release((mtask_future *)ctx);
}

START_TEST(a_callback_may_give_the_last_reference_back) {
    mtask_pool *pool = open_pool(2);
    for (int i = 0; i < 200; i++) {
        mtask_future *future = submit(pool, return_arg, NULL);
        ck_assert_status(mtask_future_then(future, release_future, future), MTASK_OK);
    }
    end_pool(pool);
}
END_TEST

static void cancel_from_callback(const mtask_outcome *outcome, void *ctx) {
    (void)outcome;
    ck_assert_status(mtask_future_cancel((mtask_future *)ctx), MTASK_OK);
}

/* Each failure cancels the task behind it, from the callback of a callback ... */
START_TEST(a_callback_may_cancel_other_tasks) {
    mtask_pool *pool = make_held(one_worker);
    mtask_future *third = submit(pool, return_arg, NULL);
    mtask_task_desc task = {.fn = return_arg, .on_failure = cancel_from_callback, .ctx = third};
    mtask_future *second = submit_desc(pool, &task);
    task.ctx = second;
    cancel(submit_desc(pool, &task));
    check_state(second, true, false, true);
    check_state(third, true, false, true);
    ck_assert_uint_eq(stats_of(pool).canceled, 3);
    ck_assert_uint_eq(stats_of(pool).pending, 0);
    mtask_future_release(second);
    mtask_future_release(third);
    open_and_end(pool);
}
END_TEST

typedef struct stubborn {
    mtask_future *future;
    int calls;
} stubborn;

static void cancel_again(const mtask_outcome *outcome, void *ctx) {
    stubborn *s = (stubborn *)ctx;
    ck_assert_status(outcome->status, MTASK_CANCELED);
    if (++s->calls < 10)
        ck_assert_status(mtask_future_cancel(s->future), MTASK_OK);
}

START_TEST(a_callback_of_cancelling_may_cancel_again_and_is_not_called_again) {
    mtask_pool *pool = make_held(one_worker);
    stubborn s = {.calls = 0};
    mtask_task_desc task = {.fn = return_arg, .on_failure = cancel_again, .ctx = &s};
    s.future = submit_desc(pool, &task);
    ck_assert_status(mtask_future_cancel(s.future), MTASK_OK);
    ck_assert_int_eq(s.calls, 1);
    mtask_future_release(s.future);
    s.calls = 0;
    s.future = submit_desc(pool, &task);
    ck_assert_status(mtask_pool_terminate(pool), MTASK_OK);
    ck_assert_int_eq(s.calls, 1);
    mtask_future_release(s.future);
    open_and_end(pool);
}
END_TEST

static void close_from_callback(void *value, void *ctx) {
    (void)value;
    ck_assert_status(mtask_pool_terminate((mtask_pool *)ctx), MTASK_OK);
}

START_TEST(a_callback_may_terminate_the_pool) {
    mtask_pool *pool = make_held(one_worker);
    mtask_task_desc task = {.fn = return_arg, .on_success = close_from_callback, .ctx = pool};
    mtask_future *first = submit_desc(pool, &task), *second = submit(pool, return_arg, NULL);
    mtask_event_set(&gate);
    ck_assert_status(mtask_future_get(second, NULL, MTASK_FOREVER), MTASK_CANCELED);
    ck_assert_status(mtask_pool_join(pool, MTASK_FOREVER), MTASK_OK);
    end_pool(pool);
    (void)result(first);
    mtask_future_release(second);
}
END_TEST

/* ---- values that nobody takes ---- */

static mtask_word freed;
static diary *freed_diary;

static void count_free(void *value) {
    mtask_word_add((mtask_word *)value, 1);
    mtask_word_add(&freed, 1);
    if (freed_diary != NULL)
        note(freed_diary, 'v');
}

START_TEST(a_value_that_nobody_takes_is_freed_with_the_future) {
    mtask_pool *pool = open_pool(1);
    mtask_word value = 0;
    mtask_task_desc task = {.fn = return_arg, .arg = &value, .free_value = count_free};
    mtask_future *future = submit_desc(pool, &task);
    ck_assert_status(mtask_future_wait(future, MTASK_FOREVER), MTASK_OK);
    end_pool(pool);
    ck_assert_uint_eq(mtask_word_load(&value), 0);
    mtask_future_release(future);
    ck_assert_uint_eq(mtask_word_load(&value), 1);
}
END_TEST

START_TEST(a_value_is_freed_if_the_future_went_before_the_task_ran) {
    mtask_pool *pool = make_held(one_worker);
    mtask_word value = 0;
    mtask_task_desc task = {.fn = return_arg, .arg = &value, .free_value = count_free};
    mtask_future_release(submit_desc(pool, &task));
    ck_assert_uint_eq(mtask_word_load(&value), 0);
    open_and_end(pool);
    ck_assert_uint_eq(mtask_word_load(&value), 1);
}
END_TEST

START_TEST(a_value_without_a_future_is_freed_after_its_callback) {
    mtask_pool *pool = open_pool(1);
    mtask_word value = 0;
    diary d;
    mtask_task_desc task = with_diary(return_arg, &value, &d);
    task.free_value = count_free;
    freed_diary = &d;
    ck_assert_status(mtask_pool_submit_ex(pool, &task, NULL, MTASK_FOREVER), MTASK_OK);
    end_pool(pool);
    ck_assert_uint_eq(mtask_word_load(&value), 1);
    ck_assert_str_eq(d.entries, "sv");
    ck_assert_ptr_eq(d.value, &value);
    task = with_diary(return_arg, &value, &d);
    task.free_value = count_free;
    task.on_success = NULL;
    pool = open_pool(1);
    ck_assert_status(mtask_pool_submit_ex(pool, &task, NULL, MTASK_FOREVER), MTASK_OK);
    end_pool(pool);
    ck_assert_uint_eq(mtask_word_load(&value), 2);
    ck_assert_str_eq(d.entries, "v");
}
END_TEST

START_TEST(a_value_that_was_taken_is_not_freed) {
    mtask_pool *pool = open_pool(1);
    mtask_word value = 0;
    mtask_task_desc task = {.fn = return_arg, .arg = &value, .free_value = count_free};
    ck_assert_ptr_eq(result(submit_desc(pool, &task)), &value);
    end_pool(pool);
    ck_assert_uint_eq(mtask_word_load(&value), 0);
}
END_TEST

START_TEST(without_a_value_nothing_is_freed) {
    mtask_pool *pool = make_held(one_worker);
    mtask_task_desc task = {.fn = fail_always, .free_value = count_free};
    mtask_future_release(submit_desc(pool, &task));
    ck_assert_status(mtask_pool_submit_ex(pool, &task, NULL, MTASK_FOREVER), MTASK_OK);
    task.fn = return_arg;
    task.arg = &freed;
    cancel(submit_desc(pool, &task));
    open_and_end(pool);
    ck_assert_uint_eq(mtask_word_load(&freed), 0);
}
END_TEST

/* ---- full backlogs ---- */

static mtask_pool *make_full(unsigned workers, size_t backlog, bool reject, mtask_word *ran) {
    mtask_pool_desc desc = {.workers = workers, .backlog = backlog, .reject = reject};
    mtask_pool *pool = make_held(desc);
    for (size_t i = 0; i < backlog; i++)
        post(pool, count_one, ran);
    ck_assert_uint_eq(stats_of(pool).pending, backlog);
    return pool;
}

START_TEST(a_pool_that_rejects_takes_no_more_than_its_backlog) {
    for (unsigned backlog = 1; backlog <= 33; backlog += 8) {
        mtask_word ran = 0;
        mtask_pool *pool = make_full(1 + backlog % 3, backlog, true, &ran);
        mtask_task_desc task = {.fn = count_one, .arg = &ran};
        mtask_future *future = NULL;
        int64_t start = mtask_now();
        ck_assert_status(mtask_pool_submit(pool, count_one, &ran, &future), MTASK_FULL);
        ck_assert_status(mtask_pool_post(pool, count_one, &ran), MTASK_FULL);
        ck_assert_status(mtask_pool_submit_ex(pool, &task, NULL, MTASK_NOWAIT), MTASK_FULL);
        ck_assert_status(mtask_pool_submit_ex(pool, &task, NULL, MTASK_MS(10)), MTASK_FULL);
        ck_assert_int_ge(mtask_now() - start, MTASK_MS(10));
        ck_assert_uint_eq(stats_of(pool).pending, backlog);
        open_and_end(pool);
        ck_assert_uint_eq(mtask_word_load(&ran), backlog);
    }
}
END_TEST

START_TEST(a_submit_with_a_timeout_waits_that_long_for_room) {
    mtask_word ran = 0;
    mtask_pool *pool = make_full(2, 3, false, &ran);
    mtask_task_desc task = {.fn = count_one, .arg = &ran};
    mtask_future *future = NULL;
    int64_t start = mtask_now();
    ck_assert_status(mtask_pool_submit_ex(pool, &task, &future, MTASK_NOWAIT), MTASK_FULL);
    ck_assert_status(mtask_pool_submit_ex(pool, &task, &future, MTASK_MS(20)), MTASK_FULL);
    ck_assert_int_ge(mtask_now() - start, MTASK_MS(20));
    ck_assert_uint_eq(stats_of(pool).submitted, 5);
    mtask_event_set(&gate);
    ck_assert_status(mtask_pool_submit_ex(pool, &task, &future, MTASK_SEC(60)), MTASK_OK);
    (void)result(future);
    end_pool(pool);
    ck_assert_uint_eq(mtask_word_load(&ran), 4);
}
END_TEST

static void submit_one(testing_member *self) {
    mtask_future *future = NULL;
    static mtask_word dropped;
    self->status = mtask_pool_submit((mtask_pool *)self->arg, count_one, &dropped, &future);
    if (self->status == MTASK_OK)
        mtask_future_release(future);
}

static void post_one(testing_member *self) {
    self->status = mtask_pool_post((mtask_pool *)self->arg, return_arg, NULL);
}

static void submit_one_in_time(testing_member *self) {
    mtask_task_desc task = {.fn = return_arg};
    self->status = mtask_pool_submit_ex((mtask_pool *)self->arg, &task, NULL, MTASK_SEC(60));
}

/* Submitters of all kinds, six of them, that wait for room. */
static void start_submitters(testing_crowd *crowd, mtask_pool *pool) {
    testing_crowd_start(crowd, 2, submit_one, pool);
    for (int i = 0; i < 2; i++) {
        (void)testing_crowd_add(crowd, post_one, pool);
        (void)testing_crowd_add(crowd, submit_one_in_time, pool);
    }
    testing_crowd_await_asleep(crowd, 6);
}

START_TEST(submitters_wait_for_room_and_use_no_cpu) {
    mtask_word ran = 0;
    mtask_pool *pool = make_full(1, 2, false, &ran);
    testing_crowd crowd;
    start_submitters(&crowd, pool);
    testing_check_idle(&crowd.members[0]);
    testing_check_idle(&crowd.members[3]);
    ck_assert_int_eq(testing_crowd_finished(&crowd), 0);
    ck_assert_uint_eq(stats_of(pool).pending, 2);
    mtask_event_set(&gate);
    testing_crowd_join(&crowd);
    ck_assert_int_eq(testing_crowd_count(&crowd, MTASK_OK), 6);
    ck_assert_status(mtask_pool_close(pool), MTASK_OK);
    ck_assert_status(mtask_pool_join(pool, MTASK_FOREVER), MTASK_OK);
    ck_assert_uint_eq(stats_of(pool).done, 1 + 2 + 6);
    end_pool(pool);
}
END_TEST

static void *take_one(void *arg) {
    ck_assert_status(mtask_sem_acquire((mtask_sem *)arg, MTASK_FOREVER), MTASK_OK);
    mtask_word_add(&at_gate, 1);
    return NULL;
}

START_TEST(a_worker_that_takes_a_task_makes_room_for_one) {
    enum { TASKS = 5 };
    mtask_pool_desc desc = {.workers = 1, .backlog = TASKS - 1};
    mtask_pool *pool = make(&desc);
    mtask_sem sem = {0};
    testing_crowd crowd;
    for (int i = 0; i < TASKS; i++)
        post(pool, take_one, &sem);
    start_submitters(&crowd, pool);
    for (int i = 1; i < TASKS; i++) {
        ck_assert_status(mtask_sem_release(&sem, 1), MTASK_OK);
        testing_await_finished(&crowd, i);
        testing_crowd_await_settled(&crowd);
        ck_assert_int_eq(testing_crowd_finished(&crowd), i);
        ck_assert_uint_eq(stats_of(pool).pending, TASKS - 1);
    }
    ck_assert_status(mtask_sem_release(&sem, 1), MTASK_OK);
    testing_crowd_join(&crowd);
    ck_assert_int_eq(testing_crowd_count(&crowd, MTASK_OK), 6);
    end_pool(pool);
}
END_TEST

START_TEST(cancel_makes_room_in_a_full_backlog) {
    mtask_pool_desc desc = {.workers = 1, .backlog = 4, .reject = true};
    mtask_pool *pool = make_held(desc);
    mtask_word ran = 0;
    mtask_future *futures[4];
    for (int i = 0; i < 4; i++)
        futures[i] = submit(pool, count_one, &ran);
    for (int i = 0; i < 4; i++) {
        int victim = (i * 3 + 1) % 4; /* neither in order nor in reverse */
        ck_assert_status(mtask_pool_post(pool, count_one, &ran), MTASK_FULL);
        cancel(futures[victim]);
        ck_assert_uint_eq(stats_of(pool).pending, 3);
        post(pool, return_arg, NULL);
    }
    ck_assert_status(mtask_pool_post(pool, count_one, &ran), MTASK_FULL);
    ck_assert_uint_eq(stats_of(pool).pending, 4);
    open_and_end(pool);
    ck_assert_uint_eq(mtask_word_load(&ran), 0);
}
END_TEST

START_TEST(cancel_lets_one_submitter_go_on) {
    mtask_pool_desc desc = {.workers = 1, .backlog = 3};
    mtask_pool *pool = make_held(desc);
    mtask_future *futures[3];
    testing_crowd crowd;
    for (int i = 0; i < 3; i++)
        futures[i] = submit(pool, return_arg, NULL);
    start_submitters(&crowd, pool);
    for (int i = 0; i < 3; i++) {
        cancel(futures[(i + 1) % 3]);
        testing_await_finished(&crowd, i + 1);
        testing_crowd_await_settled(&crowd);
        ck_assert_int_eq(testing_crowd_finished(&crowd), i + 1);
        ck_assert_uint_eq(stats_of(pool).pending, 3);
    }
    mtask_event_set(&gate);
    testing_crowd_join(&crowd);
    ck_assert_int_eq(testing_crowd_count(&crowd, MTASK_OK), 6);
    end_pool(pool);
}
END_TEST

START_TEST(close_wakes_all_who_wait_for_room) {
    for (int terminate = 0; terminate < 2; terminate++) {
        mtask_word ran = 0;
        mtask_pool *pool = make_full(1, 3, false, &ran);
        testing_crowd crowd;
        start_submitters(&crowd, pool);
        ck_assert_status(terminate ? mtask_pool_terminate(pool) : mtask_pool_close(pool), MTASK_OK);
        testing_crowd_join(&crowd);
        ck_assert_int_eq(testing_crowd_count(&crowd, MTASK_CLOSED), 6);
        ck_assert_uint_eq(stats_of(pool).submitted, 4);
        ck_assert_uint_eq(stats_of(pool).pending, terminate ? 0 : 3);
        open_and_end(pool);
        ck_assert_uint_eq(mtask_word_load(&ran), terminate ? 0 : 3);
    }
}
END_TEST

/* One of the sleepers is woken just before: what tells the others must not be lost with him. */
START_TEST(close_wakes_all_when_one_has_just_been_woken) {
    for (long round = 0; round < testing_scale(40); round++) {
        mtask_pool_desc desc = {.workers = 1, .backlog = 1};
        mtask_pool *pool = make_held(desc);
        mtask_future *future = submit(pool, return_arg, NULL);
        testing_crowd crowd;
        int in_time;
        testing_crowd_start(&crowd, 3, post_one, pool);
        testing_crowd_await_asleep(&crowd, 3);
        cancel(future);
        ck_assert_status(mtask_pool_close(pool), MTASK_OK);
        testing_crowd_join(&crowd);
        in_time = testing_crowd_count(&crowd, MTASK_OK);
        ck_assert_int_le(in_time, 1);
        ck_assert_int_eq(testing_crowd_count(&crowd, MTASK_CLOSED), 3 - in_time);
        ck_assert_uint_eq(stats_of(pool).pending, (size_t)in_time);
        open_and_end(pool);
    }
}
END_TEST

static void post_briefly(testing_member *self) {
    mtask_task_desc task = {.fn = return_arg};
    self->status = mtask_pool_submit_ex((mtask_pool *)self->arg, &task, NULL,
                                        MTASK_US(100 + 50 * self->index));
}

/* Submitters that give up must not take with them the news that there is room. */
START_TEST(room_is_found_though_others_give_up) {
    for (long round = 0; round < testing_scale(150); round++) {
        mtask_pool_desc desc = {.workers = 1, .backlog = 1};
        mtask_pool *pool = make_held(desc);
        mtask_future *future = submit(pool, return_arg, NULL);
        testing_crowd crowd;
        int in_time;
        testing_crowd_start(&crowd, 3, post_briefly, pool);
        (void)testing_crowd_add(&crowd, post_one, pool);
        cancel(future);
        mtask_event_set(&gate);
        testing_crowd_join(&crowd);
        in_time = testing_crowd_count(&crowd, MTASK_OK);
        ck_assert_status(crowd.members[3].status, MTASK_OK);
        ck_assert_int_eq(testing_crowd_count(&crowd, MTASK_FULL), 4 - in_time);
        end_pool(pool);
    }
}
END_TEST

/* Producers, more than one, through a narrow backlog. */
typedef struct flood {
    mtask_pool *pool;
    mtask_word ran;
    mtask_word taken;
    long each;
} flood;

static void pour(testing_member *self) {
    flood *f = (flood *)self->arg;
    mtask_task_desc task = {.fn = count_one, .arg = &f->ran};
    for (long i = 0; i < f->each; i++) {
        mtask_status status = i % 3 == 0 ? mtask_pool_post(f->pool, count_one, &f->ran)
                              : i % 3 == 1
                                  ? mtask_pool_submit(f->pool, count_one, &f->ran, NULL)
                                  : mtask_pool_submit_ex(f->pool, &task, NULL, MTASK_US(50));
        testing_check(status == MTASK_OK || (status == MTASK_FULL && i % 3 == 2));
        mtask_word_add(&f->taken, status == MTASK_OK);
    }
}

START_TEST(a_narrow_backlog_is_never_exceeded) {
    for (size_t backlog = 1; backlog <= 4; backlog++) {
        flood f = {.each = testing_scale(1200)};
        mtask_pool_desc desc = {.workers = 2, .backlog = backlog};
        testing_crowd crowd;
        f.pool = make(&desc);
        testing_crowd_start(&crowd, 3, pour, &f);
        while (testing_crowd_finished(&crowd) < 3) {
            ck_assert_uint_le(stats_of(f.pool).pending, backlog);
            sched_yield();
        }
        testing_crowd_join(&crowd);
        end_pool(f.pool);
        ck_assert_uint_eq(mtask_word_load(&f.ran), mtask_word_load(&f.taken));
    }
}
END_TEST

/* ---- tasks that submit tasks ---- */

/* A tree of tasks. */
typedef struct tree {
    mtask_pool *pool;
    mtask_word ran;
} tree;

typedef struct node {
    tree *tree;
    int depth;
} node;

static void *grow(void *arg) {
    node *n = (node *)arg;
    mtask_word_add(&n->tree->ran, 1);
    for (int i = 0; i < 3 && n->depth > 0; i++) {
        node *child = (node *)malloc(sizeof *child);
        testing_check(child != NULL);
        child->tree = n->tree;
        child->depth = n->depth - 1;
        ck_assert_status(mtask_pool_post(n->tree->pool, grow, child), MTASK_OK);
    }
    free(n);
    return NULL;
}

START_TEST(tasks_may_submit_tasks) {
    for (unsigned workers = 1; workers <= 3; workers++) {
        tree t = {.pool = open_pool(workers)};
        node *root = (node *)malloc(sizeof *root);
        ck_assert_ptr_nonnull(root);
        root->tree = &t;
        root->depth = 6;
        post(t.pool, grow, root);
        await_word(&t.ran, (2187 - 1) / 2); /* 1 + 3 + ... + 729 */
        end_pool(t.pool);
        ck_assert_uint_eq(mtask_word_load(&t.ran), (2187 - 1) / 2);
    }
}
END_TEST

static void *return_future(void *arg) {
    return submit(mtask_pool_current(), return_arg, arg);
}

START_TEST(a_task_may_hand_on_the_future_of_another) {
    mtask_pool *pool = open_pool(1);
    mtask_future *inner = (mtask_future *)result(submit(pool, return_future, pool));
    ck_assert_ptr_eq(result(inner), pool);
    end_pool(pool);
}
END_TEST

static mtask_word own_ran;

/* Runs while the backlog is full, and the only other thread waits for room. */
static void *wait_and_overfill(void *arg) {
    mtask_pool *pool = (mtask_pool *)arg;
    mtask_task_desc task = {.fn = count_one, .arg = &own_ran};
    mtask_future *future = NULL;
    (void)wait_at_gate(NULL);
    ck_assert_status(mtask_pool_post(pool, count_one, &own_ran), MTASK_DEADLOCK);
    ck_assert_status(mtask_pool_submit(pool, count_one, &own_ran, &future), MTASK_DEADLOCK);
    ck_assert_status(mtask_pool_submit_ex(pool, &task, NULL, MTASK_FOREVER), MTASK_DEADLOCK);
    ck_assert_status(mtask_pool_submit_ex(pool, &task, NULL, MTASK_NOWAIT), MTASK_FULL);
    return arg;
}

static void *overfill(void *arg) {
    mtask_pool *pool = (mtask_pool *)arg;
    post(pool, wait_and_overfill, pool);
    post(pool, count_one, &own_ran); /* when another thread has taken that one */
    post(pool, count_one, &own_ran); /* when that one has come to its end */
    return arg;
}

START_TEST(the_last_thread_does_not_wait_for_room_that_only_it_could_make) {
    mtask_pool_desc desc = {.workers = 1, .spare = 1, .backlog = 1};
    mtask_pool *pool = make(&desc);
    mtask_future *future = submit(pool, overfill, pool);
    await_word(&at_gate, 1);
    while (stats_of(pool).waiting < 1 || stats_of(pool).pending < 1)
        testing_pause(1);
    ck_assert_uint_eq(stats_of(pool).threads, 2);
    mtask_event_set(&gate);
    ck_assert_ptr_eq(result(future), pool);
    end_pool(pool);
    ck_assert_uint_eq(mtask_word_load(&own_ran), 2);
}
END_TEST

/* A worker that waits for room does not count: another thread takes its place. */
static void *fill_and_wait(void *arg) {
    for (int i = 0; i < 20; i++)
        post((mtask_pool *)arg, count_one, &own_ran);
    return arg;
}

START_TEST(the_only_worker_may_wait_for_room) {
    for (long round = 0; round < testing_scale(100); round++) {
        mtask_pool_desc desc = {.workers = 1, .backlog = 1};
        mtask_pool *pool = make(&desc);
        mtask_word_store(&own_ran, 0);
        ck_assert_ptr_eq(result(submit(pool, fill_and_wait, pool)), pool);
        end_pool(pool);
        ck_assert_uint_eq(mtask_word_load(&own_ran), 20);
    }
}
END_TEST

static void *post_many(void *arg) {
    mtask_pool *pool = (mtask_pool *)arg;
    uintptr_t taken = 0;
    for (int i = 0; i < 50; i++) {
        mtask_status status = mtask_pool_post(pool, count_one, &own_ran);
        testing_check(status == MTASK_OK || status == MTASK_DEADLOCK);
        taken += status == MTASK_OK;
    }
    return (void *)taken;
}

START_TEST(workers_that_all_find_the_backlog_full_come_to_an_end) {
    for (long round = 0; round < testing_scale(60); round++) {
        mtask_pool_desc desc = {.workers = 3, .spare = 1, .backlog = 2};
        mtask_pool *pool = make(&desc);
        mtask_future *futures[5];
        uintptr_t taken = 0;
        mtask_word_store(&own_ran, 0);
        for (int i = 0; i < 5; i++)
            futures[i] = submit(pool, post_many, pool);
        for (int i = 0; i < 5; i++)
            taken += (uintptr_t)result(futures[i]);
        end_pool(pool);
        ck_assert_uint_eq(mtask_word_load(&own_ran), taken);
    }
}
END_TEST

static void *post_into_full(void *arg) {
    ck_assert_status(mtask_pool_post((mtask_pool *)arg, count_one, &own_ran), MTASK_OK);
    ck_assert_status(mtask_pool_post((mtask_pool *)arg, count_one, &own_ran), MTASK_FULL);
    return NULL;
}

START_TEST(a_pool_that_rejects_rejects_its_own_tasks_too) {
    mtask_pool_desc desc = {.workers = 1, .backlog = 1, .reject = true};
    mtask_pool *pool = make(&desc);
    (void)result(submit(pool, post_into_full, pool));
    end_pool(pool);
    ck_assert_uint_eq(mtask_word_load(&own_ran), 1);
}
END_TEST

/* ---- futures outlive the pool ---- */

START_TEST(futures_tell_their_outcome_when_the_pool_is_gone) {
    mtask_pool *pool = make_held(one_worker);
    diary d = {0};
    mtask_word value = 0;
    mtask_task_desc task = {.fn = return_arg, .arg = &value, .free_value = count_free};
    mtask_future *good = submit(pool, return_arg, &d), *bad = submit(pool, fail_always, NULL);
    mtask_future *untaken = submit_desc(pool, &task), *canceled = submit(pool, return_arg, NULL);
    mtask_outcome outcome;
    ck_assert_status(mtask_future_cancel(canceled), MTASK_OK);
    open_and_end(pool);
    check_state(good, true, false, false);
    check_state(bad, true, false, false);
    check_state(canceled, true, false, true);
    ck_assert_status(mtask_future_cancel(good), MTASK_INVALID);
    ck_assert_status(mtask_future_cancel(canceled), MTASK_OK);
    ck_assert_status(mtask_future_get(bad, &outcome, MTASK_FOREVER), MTASK_FAILED);
    ck_assert_str_eq(outcome.text, "nothing there");
    ck_assert_status(mtask_future_get(canceled, &outcome, MTASK_FOREVER), MTASK_CANCELED);
    ck_assert_status(mtask_future_then(canceled, note_1, &d), MTASK_OK);
    ck_assert_str_eq(d.entries, "1");
    ck_assert_ptr_eq(result(good), &d);
    mtask_future_release(mtask_future_retain(bad));
    mtask_future_release(bad);
    mtask_future_release(canceled);
    ck_assert_uint_eq(mtask_word_load(&value), 0);
    mtask_future_release(untaken);
    ck_assert_uint_eq(mtask_word_load(&value), 1);
}
END_TEST

START_TEST(futures_of_a_terminated_pool_stay_cancelled) {
    mtask_pool *pool = make_held(one_worker);
    mtask_future *futures[4];
    for (int i = 0; i < 4; i++)
        futures[i] = submit(pool, return_arg, NULL);
    ck_assert_status(mtask_pool_terminate(pool), MTASK_OK);
    open_and_end(pool);
    for (int i = 0; i < 4; i++)
        cancel(futures[i]);
}
END_TEST

static void get_and_release(testing_member *self) {
    mtask_future *future = (mtask_future *)self->arg;
    self->status = mtask_future_get(future, NULL, MTASK_FOREVER);
    mtask_future_release(future);
}

START_TEST(those_who_wait_for_a_future_are_woken_when_the_pool_goes) {
    for (int round = 0; round < 20; round++) {
        mtask_pool *pool = make_held(one_worker);
        mtask_future *future = submit(pool, return_arg, NULL);
        testing_crowd crowd;
        for (int i = 0; i < 3; i++)
            (void)mtask_future_retain(future);
        testing_crowd_start(&crowd, 3, get_and_release, future);
        testing_crowd_await_asleep(&crowd, 3);
        mtask_future_release(future);
        if (round % 2 == 1)
            ck_assert_status(mtask_pool_terminate(pool), MTASK_OK);
        open_and_end(pool);
        testing_crowd_join(&crowd);
        ck_assert_int_eq(testing_crowd_count(&crowd, round % 2 == 1 ? MTASK_CANCELED : MTASK_OK),
                         3);
    }
}
END_TEST

/* ---- waiting for several: Python's futures.wait ---- */

START_TEST(any_of_several_tasks_can_be_waited_for) {
    mtask_pool *pool = open_pool(2);
    mtask_future *futures[3];
    futures[0] = submit(pool, wait_at_gate, NULL);
    await_word(&at_gate, 1);
    futures[1] = submit(pool, return_arg, pool);
    futures[2] = futures[1];
    ck_assert_status(mtask_futures_wait(futures, 3, MTASK_WAIT_ANY, MTASK_FOREVER), MTASK_OK);
    ck_assert(mtask_future_done(futures[1]));
    ck_assert(!mtask_future_done(futures[0]));
    ck_assert_status(mtask_futures_wait(futures, 3, MTASK_WAIT_ALL, MTASK_MS(2)), MTASK_TIMEOUT);
    mtask_event_set(&gate);
    ck_assert_status(mtask_futures_wait(futures, 3, MTASK_WAIT_ALL, MTASK_FOREVER), MTASK_OK);
    (void)result(futures[0]);
    (void)result(futures[1]);
    end_pool(pool);
}
END_TEST

START_TEST(the_first_failure_of_several_tasks_can_be_waited_for) {
    mtask_pool *pool = open_pool(2);
    mtask_future *futures[3];
    futures[0] = submit(pool, wait_at_gate, NULL);
    await_word(&at_gate, 1);
    futures[1] = submit(pool, return_arg, NULL);
    ck_assert_status(mtask_futures_wait(futures, 2, MTASK_WAIT_FIRST_FAILURE, MTASK_MS(2)),
                     MTASK_TIMEOUT);
    futures[2] = submit(pool, fail_always, NULL);
    ck_assert_status(mtask_futures_wait(futures, 3, MTASK_WAIT_FIRST_FAILURE, MTASK_FOREVER),
                     MTASK_OK);
    ck_assert(mtask_future_done(futures[2]));
    ck_assert(!mtask_future_done(futures[0]));
    mtask_event_set(&gate);
    end_pool(pool);
    for (int i = 0; i < 3; i++)
        mtask_future_release(futures[i]);
}
END_TEST

START_TEST(all_of_many_tasks_can_be_waited_for) {
    enum { TASKS = 100 };
    mtask_pool *pool = make_held(one_worker);
    mtask_future *futures[TASKS];
    for (int i = 0; i < TASKS; i++)
        futures[i] = submit(pool, i % 7 == 0 ? fail_always : return_arg, NULL);
    for (int i = 3; i < TASKS; i += 10)
        ck_assert_status(mtask_future_cancel(futures[i]), MTASK_OK);
    mtask_event_set(&gate);
    ck_assert_status(mtask_futures_wait(futures, TASKS, MTASK_WAIT_ALL, MTASK_FOREVER), MTASK_OK);
    for (int i = 0; i < TASKS; i++) {
        ck_assert(mtask_future_done(futures[i]));
        mtask_future_release(futures[i]);
    }
    end_pool(pool);
}
END_TEST

START_TEST(a_timed_wait_for_a_task_takes_its_time) {
    mtask_pool *pool = make_held(one_worker);
    mtask_future *future = submit(pool, return_arg, pool);
    int64_t start = mtask_now();
    ck_assert_status(mtask_future_get(future, NULL, MTASK_MS(20)), MTASK_TIMEOUT);
    ck_assert_int_ge(mtask_now() - start, MTASK_MS(20));
    mtask_event_set(&gate);
    ck_assert_ptr_eq(result(future), pool);
    end_pool(pool);
}
END_TEST

TESTING_MAIN(
    "pool_submit", a_task_gives_its_value, a_task_that_fails_tells_status_and_text,
    the_text_of_a_failure_may_be_missing_or_cut, a_failure_stays_with_its_task,
    a_task_needs_a_function, a_future_that_is_not_wanted_is_not_needed,
    a_posted_task_drops_what_it_returns, tasks_do_not_run_in_the_thread_that_submits,
    many_tasks_are_done_once_each, each_task_has_a_number_of_its_own,
    one_worker_starts_tasks_in_order, several_workers_start_tasks_in_order,
    more_tasks_than_workers_wait_and_start_no_threads, idle_workers_are_used_again,
    each_task_wakes_a_sleeping_worker, a_task_is_pending_then_running_then_done,
    a_pending_task_can_be_cancelled, a_task_that_runs_or_has_ended_cannot_be_cancelled,
    a_task_cannot_cancel_itself, a_task_can_cancel_another,
    tasks_behind_cancelled_ones_keep_their_order, cancel_wakes_those_who_wait_for_the_task,
    terminate_wakes_those_who_wait_for_tasks, a_task_is_run_or_cancelled_never_both_nor_neither,
    several_threads_may_cancel_while_tasks_are_done,
    tasks_may_be_cancelled_while_the_pool_is_destroyed, a_backlog_with_holes_keeps_its_order,
    callbacks_of_success_run_once_in_order_in_the_worker,
    callbacks_of_failure_run_once_in_order_in_the_worker,
    callbacks_of_cancelling_run_once_in_order_where_it_is_done,
    a_worker_runs_callbacks_before_the_future_ends, terminate_runs_callbacks_of_all_it_cancels,
    callbacks_run_without_a_future, callbacks_that_nobody_wants_are_left_out,
    a_callback_for_a_task_that_has_ended_runs_at_once, a_callback_may_submit_tasks,
    a_callback_may_give_the_last_reference_back, a_callback_may_cancel_other_tasks,
    a_callback_of_cancelling_may_cancel_again_and_is_not_called_again,
    a_callback_may_terminate_the_pool, a_value_that_nobody_takes_is_freed_with_the_future,
    a_value_is_freed_if_the_future_went_before_the_task_ran,
    a_value_without_a_future_is_freed_after_its_callback, a_value_that_was_taken_is_not_freed,
    without_a_value_nothing_is_freed, a_pool_that_rejects_takes_no_more_than_its_backlog,
    a_submit_with_a_timeout_waits_that_long_for_room, submitters_wait_for_room_and_use_no_cpu,
    a_worker_that_takes_a_task_makes_room_for_one, cancel_makes_room_in_a_full_backlog,
    cancel_lets_one_submitter_go_on, close_wakes_all_who_wait_for_room,
    close_wakes_all_when_one_has_just_been_woken, room_is_found_though_others_give_up,
    a_narrow_backlog_is_never_exceeded, tasks_may_submit_tasks,
    a_task_may_hand_on_the_future_of_another,
    the_last_thread_does_not_wait_for_room_that_only_it_could_make,
    the_only_worker_may_wait_for_room, workers_that_all_find_the_backlog_full_come_to_an_end,
    a_pool_that_rejects_rejects_its_own_tasks_too, futures_tell_their_outcome_when_the_pool_is_gone,
    futures_of_a_terminated_pool_stay_cancelled,
    those_who_wait_for_a_future_are_woken_when_the_pool_goes,
    any_of_several_tasks_can_be_waited_for, the_first_failure_of_several_tasks_can_be_waited_for,
    all_of_many_tasks_can_be_waited_for, a_timed_wait_for_a_task_takes_its_time)
