/* test_mtask_procpool.c - tasks of a pool of processes: results, failures, cancelling, callbacks,
   full backlogs, and who may wait for them */
#include "testing_procpool.h"

#include <sched.h>

/* ---- results ---- */

START_TEST(a_task_gives_its_bytes) {
    mtask_procpool *pool = open_procpool(2);
    mtask_future *future;
    size_t size = 1;
    take_bytes(submit(pool, echo, "hello", 5), "hello", 5);
    take_bytes(submit(pool, echo, NULL, 0), "", 0);
    future = submit(pool, echo, "again", 5);
    for (int i = 0; i < 2; i++)
        take_bytes(mtask_future_retain(future), "again", 5);
    ck_assert_status(mtask_future_get(future, NULL, MTASK_NOWAIT), MTASK_OK);
    ck_assert_status(mtask_future_get(future, NULL, -1), MTASK_INVALID);
    check_state(future, true, false, false);
    ck_assert_ptr_nonnull(mtask_future_bytes(future, &size));
    ck_assert_uint_eq(size, 5);
    end_procpool(pool);
    take_bytes(future, "again", 5); /* it outlives the pool */
}
END_TEST

START_TEST(inputs_and_results_have_any_size) {
    static const size_t sizes[] = {8,
                                   9,
                                   100,
                                   MTASK_PROCPOOL_INLINE - 16,
                                   MTASK_PROCPOOL_INLINE - 1,
                                   MTASK_PROCPOOL_INLINE,
                                   MTASK_PROCPOOL_INLINE + 1,
                                   70000,
                                   (1 << 20) + 3};
    enum { SIZES = sizeof sizes / sizeof sizes[0] };
    mtask_procpool *pool = open_procpool(2);
    for (int i = 0; i < SIZES; i++)
        for (int j = 0; j < SIZES; j++) {
            size_t wanted = sizes[j] == 8 ? 0 : sizes[j] == 9 ? 1 : sizes[j];
            take_exchange(submit_exchange(pool, sizes[i], wanted), wanted);
        }
    end_procpool(pool);
}
END_TEST

/* None of them is looked at before all are on their way: nobody's socket may fill for good. */
START_TEST(many_big_inputs_and_results_flow_at_once) {
    enum { TASKS = 24 };
    mtask_procpool *pool = open_procpool(2);
    mtask_future *futures[TASKS];
    for (int i = 0; i < TASKS; i++)
        futures[i] = submit_exchange(pool, i % 3 == 0 ? 100 : 400000, i % 4 == 0 ? 10 : 500000);
    for (int i = TASKS - 1; i >= 0; i--)
        take_exchange(futures[i], i % 4 == 0 ? 10 : 500000);
    end_procpool(pool);
}
END_TEST

START_TEST(many_tasks_are_done_once_each) {
    mtask_procpool *pool = open_procpool(2);
    long count = testing_scale(20000);
    mtask_future **futures = (mtask_future **)malloc((size_t)count * sizeof(mtask_future *));
    testing_check(futures != NULL);
    for (long i = 0; i < count; i++)
        futures[i] = submit_number(pool, square, i);
    for (long i = 0; i < count; i++)
        testing_check(take_number(futures[i]) == i * i);
    ck_assert_uint_eq(mtask_procpool_get_stats(pool).completed, (uint64_t)count);
    end_procpool(pool);
    free(futures);
}
END_TEST

START_TEST(a_future_that_is_not_wanted_is_not_needed) {
    enum { TASKS = 300 };
    mtask_procpool *pool;
    open_board();
    pool = open_procpool(2);
    for (long i = 0; i < TASKS; i += 3) {
        long numbers[] = {i, i + 1, i + 2};
        mtask_proctask_desc task = {
            .fn = take_lap, .in = &numbers[1], .in_size = sizeof numbers[1]};
        ck_assert_status(mtask_procpool_submit(pool, take_lap, &numbers[0], sizeof(long), NULL),
                         MTASK_OK);
        ck_assert_status(mtask_procpool_submit_ex(pool, &task, NULL, MTASK_FOREVER), MTASK_OK);
        mtask_future_release(submit(pool, take_lap, &numbers[2], sizeof(long)));
    }
    mtask_future_release(submit_exchange(pool, 100000, 100000));
    end_procpool(pool);
    for (int i = 0; i < TASKS; i++)
        ck_assert_uint_eq(shared->ran[i], 1);
}
END_TEST

START_TEST(a_task_needs_a_function) {
    mtask_procpool *pool = open_procpool(1);
    mtask_proctask_desc none = {.in = "x", .in_size = 1}, some = {.fn = echo};
    mtask_future *future = NULL;
    mtask_buf out = {0};
    ck_assert_status(mtask_procpool_submit(pool, NULL, "x", 1, &future), MTASK_INVALID);
    ck_assert_status(mtask_procpool_submit_ex(pool, &none, &future, MTASK_FOREVER), MTASK_INVALID);
    ck_assert_status(mtask_procpool_submit_ex(pool, &some, &future, -1), MTASK_INVALID);
    ck_assert_status(mtask_procpool_call(pool, NULL, "x", 1, &out, NULL, MTASK_FOREVER),
                     MTASK_INVALID);
    ck_assert_ptr_null(future);
    check_works(pool);
    ck_assert_uint_eq(mtask_procpool_get_stats(pool).completed, 1);
    end_procpool(pool);
}
END_TEST

/* ---- failures ---- */

START_TEST(a_task_that_fails_tells_status_and_text) {
    mtask_procpool *pool = open_procpool(2);
    for (long code = 1; code < MTASK_STATUS_COUNT; code++) {
        mtask_future *future = submit_number(pool, fail_as_told, code);
        mtask_outcome outcome = take_failure(mtask_future_retain(future), (mtask_status)code);
        char text[32];
        snprintf(text, sizeof text, "code %ld", code);
        ck_assert_str_eq(outcome.text, text);
        check_state(future, true, false, false);
        mtask_future_release(future);
    }
    end_procpool(pool);
}
END_TEST

static mtask_status only_return(const void *in, size_t size, mtask_buf *out) {
    (void)out;
    return (mtask_status)number_in(in, size);
}

static mtask_status fail_and_return_ok(const void *in, size_t size, mtask_buf *out) {
    (void)mtask_fail((mtask_status)number_in(in, size), "not so well");
    (void)out;
    return MTASK_OK;
}

static mtask_status fail_with_long_text(const void *in, size_t size, mtask_buf *out) {
    (void)in;
    (void)size;
    (void)out;
    (void)mtask_fail(MTASK_SYSTEM, "%0300d", 7);
    return MTASK_SYSTEM;
}

START_TEST(status_and_text_of_a_failure_stand_for_themselves) {
    mtask_procpool *pool = open_procpool(1);
    mtask_outcome outcome =
        take_failure(submit_number(pool, only_return, MTASK_NOT_FOUND), MTASK_NOT_FOUND);
    ck_assert_str_eq(outcome.text, "");
    outcome = take_failure(submit_number(pool, fail_and_return_ok, MTASK_NOMEM), MTASK_NOMEM);
    ck_assert_str_eq(outcome.text, "not so well");
    outcome = take_failure(submit_number(pool, fail_and_return_ok, MTASK_OK), MTASK_FAILED);
    ck_assert_str_eq(outcome.text, "not so well");
    outcome = take_failure(submit(pool, fail_with_long_text, NULL, 0), MTASK_SYSTEM);
    ck_assert_uint_eq(strlen(outcome.text), MTASK_TEXT_SIZE - 1);
    check_works(pool); /* a failure stays with its task */
    ck_assert_uint_eq(mtask_procpool_get_stats(pool).failed, 4);
    end_procpool(pool);
}
END_TEST

START_TEST(only_tasks_of_such_a_pool_have_bytes) {
    mtask_procpool *pool = make_held(one_worker);
    mtask_future *pending = submit(pool, echo, "x", 1), *promise;
    size_t size = 1;
    ck_assert_ptr_null(mtask_future_bytes(pending, &size));
    ck_assert_uint_eq(size, 0);
    cancel(mtask_future_retain(pending));
    size = 1;
    ck_assert_ptr_null(mtask_future_bytes(pending, &size));
    ck_assert_uint_eq(size, 0);
    mtask_future_release(pending);
    ck_assert_status(mtask_future_create(&promise, NULL), MTASK_OK);
    ck_assert_status(mtask_future_set(promise, &size), MTASK_OK);
    size = 1;
    ck_assert_ptr_null(mtask_future_bytes(promise, &size));
    ck_assert_uint_eq(size, 0);
    mtask_future_release(promise);
    open_and_end(pool);
}
END_TEST

/* ---- who runs, and when ---- */

/* Waits until all who are to meet have come. */
static mtask_status meet(const void *in, size_t size, mtask_buf *out) {
    mtask_word parties = (mtask_word)number_in(in, size);
    mtask_word_add(&shared->at_gate, 1);
    await_shared(&shared->at_gate, parties);
    return put_number(out, getpid());
}

static int compare_pids(const void *a, const void *b) {
    pid_t x = *(const pid_t *)a, y = *(const pid_t *)b;
    return (x > y) - (x < y);
}

START_TEST(tasks_run_in_as_many_processes_as_there_are_workers) {
    enum { WORKERS = 5 };
    mtask_procpool *pool;
    mtask_future *futures[WORKERS];
    pid_t pids[WORKERS], known[WORKERS + 1] = {0};
    open_board();
    pool = open_procpool(WORKERS);
    for (int i = 0; i < WORKERS; i++)
        futures[i] = submit_number(pool, meet, WORKERS);
    for (int i = 0; i < WORKERS; i++)
        pids[i] = (pid_t)take_number(futures[i]);
    ck_assert_uint_eq(mtask_procpool_pids(pool, NULL, 0), WORKERS);
    ck_assert_uint_eq(mtask_procpool_pids(pool, known, 2), WORKERS);
    ck_assert(known[1] > 0 && known[2] == 0);
    ck_assert_uint_eq(mtask_procpool_pids(pool, known, WORKERS + 1), WORKERS);
    ck_assert_int_eq(known[WORKERS], 0);
    qsort(pids, WORKERS, sizeof pids[0], compare_pids);
    qsort(known, WORKERS, sizeof known[0], compare_pids);
    for (int i = 0; i < WORKERS; i++) {
        ck_assert_int_eq(pids[i], known[i]);
        ck_assert_int_ne(pids[i], getpid());
        ck_assert(i == 0 || pids[i] != pids[i - 1]);
    }
    end_procpool(pool);
}
END_TEST

static mtask_status own_info(const void *in, size_t size, mtask_buf *out) {
    mtask_proc_info info = mtask_proc_current();
    (void)in;
    (void)size;
    return mtask_buf_append(out, &info, sizeof info);
}

START_TEST(a_worker_is_a_daemon_with_a_name) {
    mtask_procpool_desc desc = {.workers = 1, .name = "Kitchen"};
    mtask_procpool *pool = make(&desc);
    mtask_future *future = submit(pool, own_info, NULL, 0);
    mtask_proc_info info;
    size_t size;
    ck_assert_status(mtask_future_get(future, NULL, MTASK_FOREVER), MTASK_OK);
    testing_check(mtask_future_bytes(future, &size) != NULL && size == sizeof info);
    memcpy(&info, mtask_future_bytes(future, &size), sizeof info);
    mtask_future_release(future);
    ck_assert_str_eq(info.name, "Kitchen-0");
    ck_assert(info.daemon && info.started);
    ck_assert_int_eq(info.parent, getpid());
    ck_assert_int_ne(info.pid, getpid());
    end_procpool(pool);
}
END_TEST

static mtask_status own_place(const void *in, size_t size, mtask_buf *out) {
    cpu_set_t set;
    long cpu = number_in(in, size);
    IN_CHILD(sched_getaffinity(0, sizeof set, &set) == 0);
    IN_CHILD(CPU_COUNT(&set) == 1 && CPU_ISSET((size_t)cpu, &set));
    return put_number(out, getpriority(PRIO_PROCESS, 0));
}

START_TEST(workers_may_have_cpus_and_a_priority_of_their_own) {
    unsigned cpu = 0;
    cpu_set_t set;
    mtask_procpool_desc desc = {
        .workers = 2, .nice = 3, .cpus = &cpu, .cpu_count = 1, .max_tasks = 2};
    int nice_here = getpriority(PRIO_PROCESS, 0);
    mtask_procpool *pool = NULL;
    ck_assert_int_eq(sched_getaffinity(0, sizeof set, &set), 0);
    while (!CPU_ISSET(cpu, &set))
        cpu++;
    if (TESTING_TSAN || TESTING_ASAN)
        desc.method = MTASK_PROC_FORKSERVER; /* see make_mending */
    if (mtask_procpool_create(&pool, &desc) == MTASK_UNSUPPORTED)
        return;
    for (int i = 0; i < 8; i++) /* those that take another's place have them, too */
        ck_assert_int_eq(take_number(submit_number(pool, own_place, (long)cpu)),
                         nice_here + 3 > 19 ? 19 : nice_here + 3);
    end_procpool(pool);
}
END_TEST

START_TEST(a_pool_without_a_description_has_a_worker_for_each_cpu) {
    mtask_procpool *pool = make(NULL);
    check_works(pool);
    ck_assert_uint_eq(mtask_procpool_pids(pool, NULL, 0), mtask_cpu_count());
    ck_assert_uint_eq(mtask_procpool_get_stats(pool).workers, mtask_cpu_count());
    end_procpool(pool);
}
END_TEST

START_TEST(a_pool_that_cannot_be_is_not_made) {
    mtask_procpool_desc many = {.workers = 257}, never = {.workers = 1, .time_limit = -1};
    mtask_procpool *pool = NULL;
    ck_assert_status(mtask_procpool_create(&pool, &many), MTASK_INVALID);
    ck_assert_status(mtask_procpool_create(&pool, &never), MTASK_INVALID);
    ck_assert_status(mtask_procpool_create(NULL, NULL), MTASK_INVALID);
    check_no_children();
}
END_TEST

static bool is_big(long number) {
    return number % 16 == 7;
}

static mtask_future *submit_lap(mtask_procpool *pool, long number) {
    char big[MTASK_PROCPOOL_INLINE + 1] = {0};
    mtask_proctask_desc task = {.fn = take_lap, .in = &number, .in_size = sizeof number};
    if (!is_big(number))
        return submit_desc(pool, &task);
    memcpy(big, &number, sizeof number);
    return submit(pool, take_lap, big, sizeof big);
}

/* More than the workers can see at a time. */
START_TEST(one_worker_begins_tasks_in_order) {
    enum { TASKS = 3000 };
    mtask_procpool *pool = make_held(one_worker);
    for (long i = 0; i < TASKS; i++) {
        mtask_future_release(submit_lap(pool, i));
        if (i == TASKS / 2)
            open_gate(); /* the rest comes while it works */
    }
    open_and_end(pool);
    for (long i = 0; i < TASKS; i++)
        ck_assert_uint_eq(shared->began[i], (mtask_word)i);
}
END_TEST

/* Of those before a task, all but one for each other worker must have begun. */
START_TEST(several_workers_begin_tasks_in_order) {
    enum { TASKS = 4000, WORKERS = 3 };
    mtask_procpool *pool;
    open_board();
    pool = open_procpool(WORKERS);
    for (long i = 0; i < TASKS; i++)
        mtask_future_release(submit_lap(pool, i));
    end_procpool(pool);
    for (int i = 0; i < TASKS; i++)
        ck_assert_int_ge((int)shared->began[i], i - (WORKERS - 1));
}
END_TEST

static int64_t cpu_time_of(pid_t pid) {
    clockid_t clock;
    struct timespec used;
    testing_check(clock_getcpuclockid(pid, &clock) == 0 && clock_gettime(clock, &used) == 0);
    return MTASK_SEC(used.tv_sec) + used.tv_nsec;
}

START_TEST(an_idle_pool_uses_no_cpu) {
    mtask_procpool *pool = open_procpool(2);
    pid_t pids[3] = {getpid()};
    int64_t used = 0;
    check_works(pool);
    ck_assert_uint_eq(mtask_procpool_pids(pool, pids + 1, 2), 2);
    testing_pause(20);
    for (int i = 0; i < 3; i++)
        used -= cpu_time_of(pids[i]);
    testing_pause(60);
    for (int i = 0; i < 3; i++)
        used += cpu_time_of(pids[i]);
    ck_assert_int_le(used, MTASK_MS(20));
    end_procpool(pool);
}
END_TEST

/* ---- states, and cancelling ---- */

START_TEST(a_task_is_pending_then_running_then_done) {
    mtask_procpool *pool = make_held(one_worker);
    mtask_future *future = submit(pool, wait_at_gate, "x", 1);
    check_state(future, false, false, false);
    ck_assert_status(mtask_future_get(future, NULL, MTASK_NOWAIT), MTASK_TIMEOUT);
    ck_assert_status(mtask_future_get(future, NULL, MTASK_MS(1)), MTASK_TIMEOUT);
    check_state(future, false, false, false);
    open_gate();
    ck_assert_status(mtask_future_wait(future, MTASK_FOREVER), MTASK_OK);
    check_state(future, true, false, false);
    take_bytes(future, "x", 1);
    mtask_word_store(&shared->gate, 0);
    future = submit(pool, wait_at_gate, "y", 1);
    await_shared(&shared->at_gate, 3);
    while (!mtask_future_running(future))
        testing_pause(1);
    check_state(future, false, true, false);
    ck_assert_status(mtask_future_get(future, NULL, MTASK_MS(1)), MTASK_TIMEOUT);
    open_gate();
    take_bytes(future, "y", 1);
    end_procpool(pool);
}
END_TEST

START_TEST(a_pending_task_can_be_canceled) {
    mtask_procpool *pool = make_held(one_worker);
    mtask_future *future = submit_number(pool, take_lap, 0);
    mtask_outcome outcome;
    ck_assert_uint_eq(mtask_procpool_get_stats(pool).pending, 1);
    cancel(mtask_future_retain(future));
    ck_assert_uint_eq(mtask_procpool_get_stats(pool).pending, 0);
    ck_assert_uint_eq(mtask_procpool_get_stats(pool).canceled, 1);
    cancel(mtask_future_retain(future));
    ck_assert_uint_eq(mtask_procpool_get_stats(pool).canceled, 1);
    memset(&outcome, 0x5a, sizeof outcome);
    ck_assert_status(mtask_future_get(future, &outcome, MTASK_FOREVER), MTASK_CANCELED);
    ck_assert_status(outcome.status, MTASK_CANCELED);
    ck_assert_ptr_null(outcome.value);
    ck_assert_str_eq(outcome.text, "");
    ck_assert_status(mtask_future_wait(future, MTASK_FOREVER), MTASK_OK);
    mtask_future_release(future);
    open_and_end(pool);
    ck_assert_uint_eq(shared->ran[0], 0);
}
END_TEST

START_TEST(a_task_that_runs_or_has_ended_cannot_be_canceled) {
    mtask_procpool *pool;
    mtask_future *running, *failed;
    open_board();
    pool = open_procpool(1);
    running = submit(pool, wait_at_gate, "x", 1);
    await_shared(&shared->at_gate, 1);
    ck_assert_status(mtask_future_cancel(running), MTASK_INVALID);
    ck_assert(!mtask_future_canceled(running));
    failed = submit_number(pool, fail_as_told, MTASK_FULL);
    open_gate();
    ck_assert_status(mtask_future_wait(failed, MTASK_FOREVER), MTASK_OK);
    ck_assert_status(mtask_future_cancel(failed), MTASK_INVALID);
    check_state(failed, true, false, false);
    ck_assert_status(mtask_future_cancel(running), MTASK_INVALID);
    take_bytes(running, "x", 1);
    mtask_future_release(failed);
    ck_assert_uint_eq(mtask_procpool_get_stats(pool).canceled, 0);
    end_procpool(pool);
}
END_TEST

/* Cancels every `step`-th of the tasks that wait, beginning with `first`; the rest keep their
   order. */
static void cancel_some(int first, int step) {
    enum { TASKS = 50 };
    mtask_procpool *pool = make_held(one_worker);
    mtask_future *futures[TASKS];
    mtask_word expected = 0;
    for (int i = 0; i < TASKS; i++)
        futures[i] = submit_lap(pool, i);
    for (int i = first; i < TASKS; i += step)
        ck_assert_status(mtask_future_cancel(futures[i]), MTASK_OK);
    open_and_end(pool);
    for (int i = 0; i < TASKS; i++) {
        bool canceled = i >= first && (i - first) % step == 0;
        check_state(futures[i], true, false, canceled);
        ck_assert_uint_eq(shared->ran[i], !canceled);
        if (!canceled)
            ck_assert_uint_eq(shared->began[i], expected++);
        mtask_future_release(futures[i]);
    }
}

START_TEST(tasks_behind_canceled_ones_keep_their_order) {
    cancel_some(0, 100); /* the first alone */
    cancel_some(49, 100);
    cancel_some(0, 2);
    cancel_some(3, 7);
    cancel_some(10, 1);
    cancel_some(0, 1); /* all */
}
END_TEST

/* Far more than the workers see at a time: their places are used again. */
START_TEST(many_canceled_tasks_leave_room) {
    mtask_procpool *pool = make_held(one_worker);
    for (int i = 0; i < 5 * MTASK_PROCPOOL_SLOTS; i++)
        cancel(submit_lap(pool, 7));
    mtask_future_release(submit_lap(pool, 8));
    ck_assert_uint_eq(mtask_procpool_get_stats(pool).pending, 1);
    open_and_end(pool);
    ck_assert_uint_eq(shared->ran[7], 0);
    ck_assert_uint_eq(shared->ran[8], 1);
}
END_TEST

START_TEST(a_task_is_run_or_canceled_never_both_nor_neither) {
    enum { BATCH = 16 };
    testing_random random = testing_random_make(testing_seed(), 0);
    int64_t start = mtask_now();
    mtask_procpool *pool;
    open_board();
    pool = open_procpool(2);
    for (long round = 0; round < testing_scale(2000) && testing_has_time(start); round++) {
        mtask_status status[BATCH];
        mtask_future *futures[BATCH];
        memset(shared->ran, 0, BATCH * sizeof shared->ran[0]);
        for (int i = 0; i < BATCH; i++)
            futures[i] = submit_number(pool, take_lap, i);
        testing_dawdle(&random, testing_below(&random, 2) == 0 ? 40000 : 64);
        for (int i = BATCH - 1; i >= 0; i--)
            status[i] = mtask_future_cancel(futures[i]);
        for (int i = 0; i < BATCH; i++) {
            ck_assert_status(mtask_future_wait(futures[i], MTASK_FOREVER), MTASK_OK);
            testing_check(mtask_future_canceled(futures[i]) == (status[i] == MTASK_OK));
            testing_check(shared->ran[i] == (status[i] == MTASK_OK ? 0 : 1));
            testing_check(status[i] == MTASK_OK || status[i] == MTASK_INVALID);
            mtask_future_release(futures[i]);
        }
    }
    end_procpool(pool);
}
END_TEST

START_TEST(cancel_wakes_those_who_wait_for_the_task) {
    mtask_procpool *pool = make_held(one_worker);
    mtask_future *future = submit(pool, echo, NULL, 0);
    testing_crowd crowd;
    testing_crowd_start(&crowd, 4, get_result, future);
    testing_crowd_await_asleep(&crowd, 4);
    cancel(mtask_future_retain(future));
    testing_crowd_join(&crowd);
    ck_assert_int_eq(testing_crowd_count(&crowd, MTASK_CANCELED), 4);
    mtask_future_release(future);
    open_and_end(pool);
}
END_TEST

/* ---- callbacks ---- */

/* What the callbacks of a task have seen. */
typedef struct witness {
    mtask_future *future; /* of that task; NULL: not looked at */
    mtask_status status;
    char text[MTASK_TEXT_SIZE];
    char data[32];
    size_t size;
    pid_t pid;            /* who ran them */
    mtask_word succeeded; /* how often on_success ran */
    mtask_word failed;
    mtask_word then; /* how often the callback of mtask_future_then ran */
} witness;

static void see_success(const void *data, size_t size, void *ctx) {
    witness *self = (witness *)ctx;
    mtask_future *future = __atomic_load_n(&self->future, __ATOMIC_ACQUIRE);
    testing_check(future == NULL || !mtask_future_done(future));
    testing_check(data != NULL && size < sizeof self->data && (uintptr_t)data % 16 == 0);
    memcpy(self->data, data, size);
    self->size = size;
    self->pid = getpid();
    mtask_word_add(&self->succeeded, 1);
}

static void see_failure(const mtask_outcome *outcome, void *ctx) {
    witness *self = (witness *)ctx;
    self->status = outcome->status;
    testing_check(outcome->value == NULL);
    memcpy(self->text, outcome->text, sizeof self->text);
    self->pid = getpid();
    mtask_word_add(&self->failed, 1);
}

static void see_end(mtask_future *future, void *ctx) {
    witness *self = (witness *)ctx;
    testing_check(mtask_future_done(future));
    testing_check(mtask_word_load(&self->succeeded) + mtask_word_load(&self->failed) == 1);
    mtask_word_add(&self->then, 1);
}

/* Submits a task that is seen. */
static mtask_future *submit_seen(mtask_procpool *pool, mtask_bytes_fn fn, const void *in,
                                 size_t size, witness *seen) {
    mtask_proctask_desc task = {.fn = fn,
                                .in = in,
                                .in_size = size,
                                .on_success = see_success,
                                .on_failure = see_failure,
                                .ctx = seen};
    memset(seen, 0, sizeof *seen);
    return submit_desc(pool, &task);
}

static void check_witness(witness *seen, mtask_word succeeded) {
    ck_assert_uint_eq(mtask_word_load(&seen->succeeded), succeeded);
    ck_assert_uint_eq(mtask_word_load(&seen->failed), 1 - succeeded);
    ck_assert_int_eq(seen->pid, getpid());
}

START_TEST(callbacks_run_in_the_parent_before_the_future_ends) {
    mtask_procpool *pool = make_held(one_worker);
    witness good, bad, ugly;
    long code = MTASK_NOT_FOUND;
    char text[32];
    mtask_future *first = submit_seen(pool, echo, "result", 6, &good);
    mtask_future *second = submit_seen(pool, fail_as_told, &code, sizeof code, &bad);
    mtask_future *third = submit_seen(pool, crash_as_told, NULL, 0, &ugly);
    snprintf(text, sizeof text, "code %ld", code);
    __atomic_store_n(&good.future, first, __ATOMIC_RELEASE);
    ck_assert_status(mtask_future_then(first, see_end, &good), MTASK_OK);
    open_gate();
    ck_assert_status(mtask_future_wait(first, MTASK_FOREVER), MTASK_OK);
    check_witness(&good, 1);
    ck_assert_uint_eq(good.size, 6);
    ck_assert_str_eq(good.data, "result");
    (void)take_failure(second, MTASK_NOT_FOUND);
    check_witness(&bad, 0);
    ck_assert_status(bad.status, MTASK_NOT_FOUND);
    ck_assert_str_eq(bad.text, text);
    (void)take_failure(third, MTASK_CRASHED);
    check_witness(&ugly, 0);
    ck_assert_status(ugly.status, MTASK_CRASHED);
    ck_assert_str_ne(ugly.text, "");
    take_bytes(first, "result", 6);
    end_procpool(pool);
    ck_assert_uint_eq(good.then, 1);
}
END_TEST

START_TEST(a_canceled_task_tells_its_callback) {
    mtask_procpool *pool = make_held(one_worker);
    witness first, second;
    mtask_future *one = submit_seen(pool, echo, "x", 1, &first);
    mtask_future *two = submit_seen(pool, echo, "x", 1, &second);
    ck_assert_status(mtask_future_cancel(one), MTASK_OK);
    await_shared(&first.failed, 1);
    check_witness(&first, 0);
    ck_assert_status(first.status, MTASK_CANCELED);
    ck_assert_status(mtask_procpool_terminate(pool), MTASK_OK);
    take_canceled(two);
    ck_assert_status(mtask_procpool_destroy(pool), MTASK_OK);
    check_witness(&second, 0);
    ck_assert_status(second.status, MTASK_CANCELED);
    mtask_future_release(one);
}
END_TEST

typedef struct chain {
    mtask_procpool *pool;
    mtask_word links; /* so far */
} chain;

static void add_link(const void *data, size_t size, void *ctx) {
    chain *self = (chain *)ctx;
    mtask_proctask_desc task = {.fn = echo, .in = data, .in_size = size, .on_success = add_link};
    task.ctx = ctx;
    if (mtask_word_add(&self->links, 1) + 1 < 50)
        ck_assert_status(mtask_procpool_submit_ex(self->pool, &task, NULL, MTASK_NOWAIT), MTASK_OK);
}

START_TEST(a_callback_may_submit_a_task) {
    chain all = {.pool = open_procpool(2)};
    add_link("link", 4, &all);
    await_shared(&all.links, 50);
    check_works(all.pool);
    end_procpool(all.pool);
    ck_assert_uint_eq(all.links, 50);
}
END_TEST

typedef struct self_end {
    mtask_procpool *pool;
    mtask_status joined;
    mtask_status destroyed;
} self_end;

static void end_own_pool(const void *data, size_t size, void *ctx) {
    self_end *self = (self_end *)ctx;
    (void)data;
    (void)size;
    self->joined = mtask_procpool_join(self->pool, MTASK_FOREVER);
    self->destroyed = mtask_procpool_destroy(self->pool);
}

START_TEST(a_callback_cannot_wait_for_the_end_of_its_pool) {
    self_end end = {.pool = make_held(one_worker)};
    mtask_proctask_desc task = {.fn = echo, .on_success = end_own_pool, .ctx = &end};
    mtask_future *future = submit_desc(end.pool, &task);
    ck_assert_status(mtask_procpool_close(end.pool), MTASK_OK);
    open_gate();
    take_bytes(future, "", 0);
    ck_assert_status(end.joined, MTASK_DEADLOCK);
    ck_assert_status(end.destroyed, MTASK_DEADLOCK);
    end_procpool(end.pool);
}
END_TEST

static void terminate_own_pool(const void *data, size_t size, void *ctx) {
    (void)data;
    (void)size;
    ck_assert_status(mtask_procpool_terminate((mtask_procpool *)ctx), MTASK_OK);
}

START_TEST(a_callback_may_terminate_its_pool) {
    mtask_procpool *pool = make_held(one_worker);
    mtask_proctask_desc task = {.fn = echo, .on_success = terminate_own_pool, .ctx = pool};
    mtask_future *first = submit_desc(pool, &task), *second = submit(pool, wait_at_gate, NULL, 0);
    mtask_word_store(&shared->gate, 1);
    ck_assert_status(mtask_future_wait(second, MTASK_FOREVER), MTASK_OK);
    take_bytes(first, "", 0);
    ck_assert_status(mtask_procpool_join(pool, MTASK_FOREVER), MTASK_OK);
    mtask_future_release(second);
    ck_assert_status(mtask_procpool_destroy(pool), MTASK_OK);
}
END_TEST

/* ---- full backlogs ---- */

START_TEST(a_full_backlog_rejects_if_it_is_to) {
    mtask_procpool_desc desc = {.workers = 1, .backlog = 3, .reject = true};
    mtask_procpool *pool = make_held(desc); /* the task at the gate counts */
    mtask_proctask_desc task = {.fn = echo};
    mtask_future *first = submit(pool, echo, "1", 1), *second = submit(pool, echo, "2", 1);
    mtask_future *future = NULL;
    ck_assert_status(mtask_procpool_submit(pool, echo, "3", 1, &future), MTASK_FULL);
    ck_assert_status(mtask_procpool_submit_ex(pool, &task, &future, MTASK_NOWAIT), MTASK_FULL);
    ck_assert_ptr_null(future);
    cancel(first); /* makes room */
    first = submit(pool, echo, "3", 1);
    ck_assert_status(mtask_procpool_submit(pool, echo, "4", 1, &future), MTASK_FULL);
    open_gate();
    take_bytes(second, "2", 1);
    take_bytes(first, "3", 1);
    while (mtask_procpool_submit(pool, echo, "4", 1, &future) == MTASK_FULL)
        testing_pause(1);
    take_bytes(future, "4", 1);
    end_procpool(pool);
}
END_TEST

START_TEST(a_submit_waits_for_room_as_long_as_it_is_told) {
    mtask_procpool_desc desc = {.workers = 1, .backlog = 2};
    mtask_procpool *pool = make_held(desc);
    mtask_proctask_desc task = {.fn = echo};
    mtask_future *last = submit(pool, echo, "1", 1), *future = NULL;
    int64_t start = mtask_now();
    ck_assert_status(mtask_procpool_submit_ex(pool, &task, &future, MTASK_MS(20)), MTASK_FULL);
    ck_assert_int_ge(mtask_now() - start, MTASK_MS(20));
    ck_assert_status(mtask_procpool_submit_ex(pool, &task, &future, MTASK_NOWAIT), MTASK_FULL);
    ck_assert_ptr_null(future);
    open_gate();
    ck_assert_status(mtask_procpool_submit_ex(pool, &task, &future, MTASK_SEC(60)), MTASK_OK);
    take_bytes(future, "", 0);
    take_bytes(last, "1", 1);
    end_procpool(pool);
}
END_TEST

typedef struct squeeze {
    mtask_procpool *pool;
    mtask_word submitted;
} squeeze;

static void submit_one(testing_member *self) {
    squeeze *all = (squeeze *)self->arg;
    self->status = mtask_procpool_submit(all->pool, echo, NULL, 0, NULL);
    mtask_word_add(&all->submitted, 1);
}

START_TEST(a_submit_waits_until_a_task_has_ended) {
    mtask_procpool_desc desc = {.workers = 1, .backlog = 2};
    squeeze all = {.pool = make_held(desc)};
    mtask_future *pending = submit(all.pool, echo, "1", 1);
    testing_crowd crowd;
    testing_crowd_start(&crowd, 2, submit_one, &all);
    testing_crowd_await_asleep(&crowd, 2);
    ck_assert_uint_eq(all.submitted, 0);
    cancel(pending); /* makes room for one */
    await_shared(&all.submitted, 1);
    testing_pause(5);
    ck_assert_uint_eq(mtask_word_load(&all.submitted), 1);
    open_gate();
    testing_crowd_join(&crowd);
    ck_assert_int_eq(testing_crowd_count(&crowd, MTASK_OK), 2);
    end_procpool(all.pool);
}
END_TEST

/* A backlog that is full at the time of `end`; what those are told who wait in submit. */
static void end_while_others_submit(mtask_status (*end)(mtask_procpool *), mtask_status expected) {
    mtask_procpool_desc desc = {.workers = 1, .backlog = 1};
    squeeze all = {.pool = make_held(desc)};
    testing_crowd crowd;
    testing_crowd_start(&crowd, 3, submit_one, &all);
    testing_crowd_await_asleep(&crowd, 3);
    ck_assert_status(end(all.pool), MTASK_OK);
    testing_crowd_join(&crowd);
    ck_assert_int_eq(testing_crowd_count(&crowd, expected), 3);
    open_gate();
    ck_assert_status(mtask_procpool_join(all.pool, MTASK_FOREVER), MTASK_OK);
    ck_assert_status(mtask_procpool_destroy(all.pool), MTASK_OK);
}

START_TEST(who_waits_in_submit_is_told_that_the_pool_is_closed) {
    end_while_others_submit(mtask_procpool_close, MTASK_CLOSED);
    end_while_others_submit(mtask_procpool_terminate, MTASK_CLOSED);
}
END_TEST

/* ---- call ---- */

START_TEST(a_call_waits_for_its_result) {
    mtask_procpool *pool = open_procpool(2);
    mtask_buf out = {0};
    mtask_outcome outcome;
    long code = MTASK_OVERFLOW;
    ck_assert_status(mtask_buf_append(&out, "so: ", 4), MTASK_OK);
    ck_assert_status(mtask_procpool_call(pool, echo, "done", 4, &out, NULL, MTASK_FOREVER),
                     MTASK_OK);
    ck_assert_uint_eq(out.size, 8);
    ck_assert_str_eq(out.data, "so: done");
    memset(&outcome, 0x5a, sizeof outcome);
    ck_assert_status(mtask_procpool_call(pool, echo, "done", 4, NULL, &outcome, MTASK_SEC(60)),
                     MTASK_OK);
    ck_assert_status(outcome.status, MTASK_OK);
    ck_assert_status(
        mtask_procpool_call(pool, fail_as_told, &code, sizeof code, &out, &outcome, MTASK_FOREVER),
        MTASK_FAILED);
    ck_assert_status(outcome.status, MTASK_OVERFLOW);
    ck_assert_uint_eq(out.size, 8);
    ck_assert_status(
        mtask_procpool_call(pool, crash_as_told, NULL, 0, &out, &outcome, MTASK_FOREVER),
        MTASK_FAILED);
    ck_assert_status(outcome.status, MTASK_CRASHED);
    ck_assert_str_eq(out.data, "so: done");
    mtask_buf_free(&out);
    ck_assert_status(mtask_procpool_call(pool, echo, NULL, 0, NULL, NULL, -1), MTASK_INVALID);
    end_procpool(pool);
    ck_assert_uint_eq(out.size, 0);
}
END_TEST

START_TEST(a_call_that_is_not_begun_in_time_is_canceled) {
    mtask_procpool *pool = make_held(one_worker);
    long number = 0;
    int64_t start = mtask_now();
    ck_assert_status(
        mtask_procpool_call(pool, take_lap, &number, sizeof number, NULL, NULL, MTASK_MS(10)),
        MTASK_TIMEOUT);
    ck_assert_int_ge(mtask_now() - start, MTASK_MS(10));
    ck_assert_uint_eq(mtask_procpool_get_stats(pool).canceled, 1);
    open_and_end(pool);
    ck_assert_uint_eq(shared->ran[0], 0);
}
END_TEST

START_TEST(a_call_that_runs_too_long_goes_on_alone) {
    mtask_procpool *pool;
    mtask_buf out = {0};
    open_board();
    pool = open_procpool(1);
    check_works(pool);
    do /* the worker has it in time, sooner or later */
        ck_assert_status(mtask_procpool_call(pool, wait_at_gate, "x", 1, &out, NULL, MTASK_MS(50)),
                         MTASK_TIMEOUT);
    while (mtask_word_load(&shared->at_gate) == 0);
    open_and_end(pool);
    ck_assert_uint_eq(out.size, 0);
    ck_assert_ptr_null(out.data);
}
END_TEST

/* ---- from several threads, and in tasks of a loop ---- */

static void submit_many(testing_member *self) {
    mtask_procpool *pool = (mtask_procpool *)self->arg;
    mtask_future *futures[50];
    for (int round = 0; round < 4; round++) {
        for (int i = 0; i < 50; i++)
            futures[i] = submit_number(pool, square, self->index * 1000 + i);
        for (int i = 0; i < 50; i++) {
            long number = self->index * 1000 + i;
            testing_check(take_number(futures[i]) == number * number);
        }
    }
}

START_TEST(several_threads_may_submit) {
    mtask_procpool_desc desc = {.workers = 2, .backlog = 70};
    mtask_procpool *pool = make(&desc);
    testing_crowd crowd;
    testing_crowd_start(&crowd, 4, submit_many, pool);
    testing_crowd_join(&crowd);
    ck_assert_uint_eq(mtask_procpool_get_stats(pool).completed, 4 * 4 * 50);
    end_procpool(pool);
}
END_TEST

static void signal_often(testing_member *self) {
    const mtask_word *enough = (const mtask_word *)self->arg;
    while (mtask_word_load(enough) == 0) {
        testing_check(kill(getpid(), SIGUSR1) == 0);
        testing_pause(1);
    }
}

START_TEST(signals_do_not_disturb_a_pool) {
    mtask_procpool_desc desc = {.workers = 2};
    mtask_procpool *pool;
    mtask_word enough = 0;
    testing_crowd crowd;
    testing_catch_signals();
    pool = make_mending(desc);
    testing_crowd_start(&crowd, 1, signal_often, &enough);
    for (int i = 0; i < 10; i++) {
        mtask_future *future = submit_exchange(pool, 500000, 500000);
        check_works(pool);
        take_exchange(future, 500000);
        (void)take_failure(submit(pool, crash_as_told, NULL, 0), MTASK_CRASHED);
    }
    end_procpool(pool);
    mtask_word_store(&enough, 1);
    testing_crowd_join(&crowd);
}
END_TEST

/* A task of a loop that has a process do something. */
typedef struct errand {
    mtask_procpool *pool;
    long number;
    mtask_status status;
    mtask_word ended;
} errand;

static void *run_errand(void *arg) {
    errand *self = (errand *)arg;
    mtask_buf out = {0};
    long number = self->number;
    testing_check(take_number(submit_number(self->pool, square, number)) == number * number);
    ck_assert_status(
        mtask_procpool_call(self->pool, square, &number, sizeof number, &out, NULL, MTASK_FOREVER),
        MTASK_OK);
    testing_check(out.size == sizeof number);
    memcpy(&number, out.data, sizeof number);
    testing_check(number == self->number * self->number);
    mtask_buf_free(&out);
    return NULL;
}

static void *run_errands(void *arg) {
    enum { ERRANDS = 60 };
    errand errands[ERRANDS];
    mtask_future *futures[ERRANDS];
    for (int i = 0; i < ERRANDS; i++) {
        errands[i].pool = (mtask_procpool *)arg;
        errands[i].number = i;
        futures[i] = go(run_errand, &errands[i]);
    }
    for (int i = 0; i < ERRANDS; i++)
        (void)take(futures[i]);
    return NULL;
}

START_TEST(many_tasks_of_a_loop_may_wait_for_processes) {
    mtask_procpool_desc desc = {.workers = 2, .backlog = 20}; /* they wait in submit, too */
    mtask_procpool *pool = make(&desc);
    (void)in_loop(run_errands, pool);
    end_procpool(pool);
}
END_TEST

static void *get_from_process(void *arg) {
    errand *self = (errand *)arg;
    mtask_future *future = submit(self->pool, wait_at_gate, NULL, 0);
    self->status = mtask_future_get(future, NULL, MTASK_FOREVER);
    mtask_future_release(future);
    self->ended = 1;
    return NULL;
}

static void *call_process(void *arg) {
    errand *self = (errand *)arg;
    self->status =
        mtask_procpool_call(self->pool, wait_at_gate, NULL, 0, NULL, NULL, MTASK_FOREVER);
    self->ended = 1;
    return NULL;
}

static void *submit_from_task(void *arg) {
    errand *self = (errand *)arg;
    self->status = mtask_procpool_submit(self->pool, echo, NULL, 0, NULL);
    self->ended = 1;
    return NULL;
}

static void *join_from_task(void *arg) {
    errand *self = (errand *)arg;
    self->status = mtask_procpool_join(self->pool, MTASK_FOREVER);
    self->ended = 1;
    return NULL;
}

/* Starts the errand, which waits while this task goes on; then ends the wait: by the gate, or, if
   `canceled`, by cancelling it. */
static void watch_errand(mtask_fn fn, errand *self, bool canceled) {
    mtask_future *future = go(fn, self);
    for (int i = 0; i < 5; i++) { /* the loop is not blocked */
        ck_assert_status(mtask_sleep(MTASK_US(200)), MTASK_OK);
        testing_check(self->ended == 0);
    }
    if (canceled)
        (void)mtask_future_cancel(future);
    else
        open_gate();
    ck_assert_status(mtask_future_wait(future, MTASK_FOREVER), MTASK_OK);
    testing_check(self->ended == 1);
    ck_assert_status(self->status, canceled ? MTASK_CANCELED : MTASK_OK);
    mtask_future_release(future);
}

static void *watch_errands(void *arg) {
    static const mtask_fn fns[] = {get_from_process, call_process, submit_from_task,
                                   join_from_task};
    const bool *canceled = (const bool *)arg;
    for (int i = 0; i < 4; i++) {
        mtask_procpool_desc desc = {.workers = 1};
        errand self = {.status = MTASK_INVALID};
        desc.backlog = fns[i] == submit_from_task ? 1 : 0;
        self.pool = make_held(desc);
        if (fns[i] == join_from_task)
            ck_assert_status(mtask_procpool_close(self.pool), MTASK_OK);
        watch_errand(fns[i], &self, *canceled);
        open_and_end(self.pool); /* its task runs to its end */
    }
    return NULL;
}

START_TEST(a_task_of_a_loop_is_parked_while_it_waits) {
    bool canceled = false;
    (void)in_loop(watch_errands, &canceled);
}
END_TEST

START_TEST(a_task_of_a_loop_that_waits_may_be_canceled) {
    bool canceled = true;
    (void)in_loop(watch_errands, &canceled);
}
END_TEST

/* ---- with other futures ---- */

static void *return_arg(void *arg) {
    return arg;
}

START_TEST(futures_of_processes_and_threads_may_be_waited_for_together) {
    enum { EACH = 10, FUTURES = 2 * EACH + 2 };
    mtask_procpool *pool = make_held(one_worker);
    mtask_pool *threads = NULL;
    mtask_future *futures[FUTURES];
    mtask_pool_desc desc = {.workers = 2};
    ck_assert_status(mtask_pool_create(&threads, &desc), MTASK_OK);
    for (int i = 0; i < EACH; i++) {
        futures[2 * i] = submit_number(pool, square, i);
        ck_assert_status(mtask_pool_submit(threads, return_arg, NULL, &futures[2 * i + 1]),
                         MTASK_OK);
    }
    futures[2 * EACH] = submit(pool, crash_as_told, NULL, 0);
    futures[2 * EACH + 1] = submit_number(pool, square, 3);
    ck_assert_status(mtask_futures_wait(futures, FUTURES, MTASK_WAIT_ANY, MTASK_FOREVER), MTASK_OK);
    ck_assert_status(mtask_futures_wait(futures, FUTURES, MTASK_WAIT_ALL, MTASK_MS(5)),
                     MTASK_TIMEOUT);
    ck_assert_status(mtask_futures_wait(futures, 1, MTASK_WAIT_ANY, MTASK_MS(1)), MTASK_TIMEOUT);
    open_gate();
    ck_assert_status(mtask_futures_wait(futures, FUTURES, MTASK_WAIT_FIRST_FAILURE, MTASK_FOREVER),
                     MTASK_OK);
    ck_assert(mtask_future_done(futures[2 * EACH]));
    ck_assert_status(mtask_futures_wait(futures, FUTURES, MTASK_WAIT_ALL, MTASK_FOREVER), MTASK_OK);
    for (int i = 0; i < FUTURES; i++) {
        ck_assert(mtask_future_done(futures[i]));
        mtask_future_release(futures[i]);
    }
    end_procpool(pool);
    ck_assert_status(mtask_pool_destroy(threads), MTASK_OK);
}
END_TEST

START_TEST(futures_come_as_they_are_completed) {
    enum { TASKS = 6 };
    mtask_procpool_desc desc = {.workers = 2};
    mtask_procpool *pool;
    mtask_future *futures[TASKS], *future;
    mtask_completed *completed;
    size_t index;
    open_board();
    pool = make(&desc);
    futures[0] = submit(pool, wait_at_gate, NULL, 0);
    for (int i = 1; i < TASKS; i++)
        futures[i] = submit_number(pool, square, i);
    ck_assert_status(mtask_as_completed(futures, TASKS, &completed), MTASK_OK);
    for (int i = 1; i < TASKS; i++) {
        ck_assert_status(mtask_completed_next(completed, &future, &index, MTASK_FOREVER), MTASK_OK);
        ck_assert_uint_eq(index, (uint64_t)i); /* by the one worker that is free */
    }
    ck_assert_status(mtask_completed_next(completed, &future, &index, MTASK_MS(1)), MTASK_TIMEOUT);
    open_gate();
    ck_assert_status(mtask_completed_next(completed, &future, &index, MTASK_FOREVER), MTASK_OK);
    ck_assert_uint_eq(index, 0);
    ck_assert_status(mtask_completed_next(completed, &future, &index, MTASK_FOREVER), MTASK_DONE);
    mtask_completed_close(completed);
    for (int i = 0; i < TASKS; i++)
        mtask_future_release(futures[i]);
    end_procpool(pool);
}
END_TEST

TESTING_PROC_MAIN(
    "mtask_procpool", a_task_gives_its_bytes, inputs_and_results_have_any_size,
    many_big_inputs_and_results_flow_at_once, many_tasks_are_done_once_each,
    a_future_that_is_not_wanted_is_not_needed, a_task_needs_a_function,
    a_task_that_fails_tells_status_and_text, status_and_text_of_a_failure_stand_for_themselves,
    only_tasks_of_such_a_pool_have_bytes, tasks_run_in_as_many_processes_as_there_are_workers,
    a_worker_is_a_daemon_with_a_name, workers_may_have_cpus_and_a_priority_of_their_own,
    a_pool_without_a_description_has_a_worker_for_each_cpu, a_pool_that_cannot_be_is_not_made,
    one_worker_begins_tasks_in_order, several_workers_begin_tasks_in_order,
    an_idle_pool_uses_no_cpu, a_task_is_pending_then_running_then_done,
    a_pending_task_can_be_canceled, a_task_that_runs_or_has_ended_cannot_be_canceled,
    tasks_behind_canceled_ones_keep_their_order, many_canceled_tasks_leave_room,
    a_task_is_run_or_canceled_never_both_nor_neither, cancel_wakes_those_who_wait_for_the_task,
    callbacks_run_in_the_parent_before_the_future_ends, a_canceled_task_tells_its_callback,
    a_callback_may_submit_a_task, a_callback_cannot_wait_for_the_end_of_its_pool,
    a_callback_may_terminate_its_pool, a_full_backlog_rejects_if_it_is_to,
    a_submit_waits_for_room_as_long_as_it_is_told, a_submit_waits_until_a_task_has_ended,
    who_waits_in_submit_is_told_that_the_pool_is_closed, a_call_waits_for_its_result,
    a_call_that_is_not_begun_in_time_is_canceled, a_call_that_runs_too_long_goes_on_alone,
    several_threads_may_submit, signals_do_not_disturb_a_pool,
    many_tasks_of_a_loop_may_wait_for_processes, a_task_of_a_loop_is_parked_while_it_waits,
    a_task_of_a_loop_that_waits_may_be_canceled,
    futures_of_processes_and_threads_may_be_waited_for_together, futures_come_as_they_are_completed)
