/* test_mtask_job.c - fork-join: values, failures, order, stealing; and that no spawn goes unseen */
#include "testing_threads.h"

#include "../mtask_pool.h"

/* ---- helpers ---- */

/* A pool of so many workers with room for `jobs` jobs each (0: the default). */
static mtask_pool *open_pool(unsigned workers, size_t jobs) {
    mtask_pool_desc desc = {0};
    mtask_pool *pool = NULL;
    desc.workers = workers;
    desc.jobs = jobs;
    ck_assert_status(mtask_pool_create(&pool, &desc), MTASK_OK);
    return pool;
}

/* Runs fn(arg) as a task of the pool, and destroys the pool; tells how it ended. */
static mtask_status run_and_destroy(mtask_pool *pool, mtask_fn fn, void *arg,
                                    mtask_outcome *outcome) {
    mtask_future *future = NULL;
    mtask_status status;
    ck_assert_status(mtask_pool_submit(pool, fn, arg, &future), MTASK_OK);
    status = mtask_future_get(future, outcome, MTASK_FOREVER);
    mtask_future_release(future);
    ck_assert_status(mtask_pool_destroy(pool), MTASK_OK);
    return status;
}

/* Runs fn(arg) as a task of a new pool. */
static void run_task(unsigned workers, mtask_fn fn, void *arg) {
    ck_assert_status(run_and_destroy(open_pool(workers, 0), fn, arg, NULL), MTASK_OK);
}

/* Returns when the word holds `value`. */
static void await_word(const mtask_word *word, mtask_word value) {
    for (long turn = 0; mtask_word_load(word) != value; turn++) {
        if (turn < 1000)
            sched_yield();
        else
            testing_pause(1);
    }
}

static void spawn(mtask_job *job, mtask_fn fn, void *arg) {
    ck_assert_status(mtask_job_spawn(job, fn, arg), MTASK_OK);
}

/* Ends a job that has not failed, and returns its value. */
static void *sync_value(mtask_job *job) {
    void *value = job;
    ck_assert_status(mtask_job_sync(job, &value), MTASK_OK);
    return value;
}

static void *set_word(void *arg) {
    mtask_word_store((mtask_word *)arg, 1);
    return arg;
}

static void *add_one(void *arg) {
    mtask_word_add((mtask_word *)arg, 1);
    return arg;
}

static void *as_number(intptr_t number) {
    return (void *)number;
}

/* ---- where jobs may be spawned ---- */

static mtask_status never_park(mtask__parker *parker, mtask__waiter *waiter, int64_t deadline) {
    (void)parker;
    (void)waiter;
    (void)deadline;
    testing_check(false); /* its jobs run in place: there is nothing to wait for */
    return MTASK_OK;
}

static void never_post(mtask__parker *parker, mtask__waiter *waiter) {
    (void)parker;
    (void)waiter;
}

/* Runs fn(arg) as a coroutine would be run: by an event loop on this thread. */
static void *run_as_coroutine(mtask_fn fn, void *arg) {
    mtask__parker parker = {never_park, NULL, never_post};
    mtask__task task;
    mtask__task *last;
    void *value;
    mtask__task_init(&task, &parker);
    last = mtask__task_switch(&task);
    value = fn(arg);
    testing_check(mtask__task_switch(last) == &task);
    return value;
}

typedef struct call {
    mtask_fn fn;
    void *arg;
} call;

static void *coroutine_in_worker(void *arg) {
    const call *self = (const call *)arg;
    return run_as_coroutine(self->fn, self->arg);
}

/* Runs fn(arg) wherever a job may be spawned: in workers, outside and in coroutines. */
static void run_everywhere(mtask_fn fn, void *arg) {
    call self = {fn, arg};
    for (unsigned workers = 1; workers <= 3; workers++)
        run_task(workers, fn, arg);
    (void)fn(arg); /* of the default pool */
    (void)run_as_coroutine(fn, arg);
    run_task(1, coroutine_in_worker, &self);
}

/* ---- values ---- */

static void *fib(void *arg) {
    intptr_t n = (intptr_t)arg;
    mtask_job job;
    intptr_t rest;
    if (n < 2)
        return arg;
    spawn(&job, fib, as_number(n - 1));
    rest = (intptr_t)fib(as_number(n - 2));
    return as_number((intptr_t)sync_value(&job) + rest);
}

static void *check_fib(void *arg) {
    testing_check((intptr_t)fib(as_number(16)) == 987);
    return arg;
}

START_TEST(fib_is_right_with_any_number_of_workers) {
    for (unsigned workers = 1; workers <= 8; workers++)
        run_task(workers, check_fib, NULL);
}
END_TEST

START_TEST(fib_is_right_wherever_it_is_called) {
    run_everywhere(check_fib, NULL);
}
END_TEST

static void *same(void *arg) {
    return arg;
}

static void *check_values(void *arg) {
    int here;
    mtask_job job;
    memset(&job, 0x5a, sizeof job); /* it need not be zeroed */
    spawn(&job, same, &here);
    testing_check(sync_value(&job) == &here);
    spawn(&job, same, NULL);
    testing_check(sync_value(&job) == NULL);
    spawn(&job, same, &here);
    ck_assert_status(mtask_job_sync(&job, NULL), MTASK_OK);
    return arg;
}

START_TEST(sync_gives_what_the_job_returned) {
    run_everywhere(check_values, NULL);
}
END_TEST

/* Spawns many jobs at a time, and syncs them in reverse. */
static void *check_many(void *arg) {
    enum { N = 500 };
    mtask_job jobs[N];
    mtask_word count = 0;
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < N; i++)
            spawn(&jobs[i], add_one, &count);
        for (int i = N; i-- > 0;)
            testing_check(sync_value(&jobs[i]) == &count);
        testing_check(mtask_word_load(&count) == (mtask_word)(round + 1) * N);
    }
    return arg;
}

START_TEST(each_of_many_jobs_runs_once) {
    run_everywhere(check_many, NULL);
}
END_TEST

static void *check_no_fn(void *arg) {
    mtask_job first, none;
    memset(&none, 0, sizeof none);
    spawn(&first, same, &first);
    ck_assert_status(mtask_job_spawn(&none, NULL, &none), MTASK_INVALID);
    testing_check(sync_value(&first) == &first);
    return arg;
}

START_TEST(a_job_needs_a_function) {
    run_everywhere(check_no_fn, NULL);
}
END_TEST

/* Tells whether the job ran here, in the task that spawned it. */
static void *note_task(void *arg) {
    *(uint64_t *)arg = mtask_task_id();
    return arg;
}

static void *lock_again(void *arg) {
    mtask_rmutex *lock = (mtask_rmutex *)arg;
    ck_assert_status(mtask_rmutex_lock(lock), MTASK_OK);
    ck_assert_status(mtask_rmutex_unlock(lock), MTASK_OK);
    return arg;
}

static void *check_in_place(void *arg) {
    mtask_rmutex lock;
    uint64_t task = 0;
    mtask_job job;
    memset(&lock, 0, sizeof lock);
    spawn(&job, note_task, &task);
    (void)sync_value(&job);
    testing_check(task == mtask_task_id());
    ck_assert_status(mtask_rmutex_lock(&lock), MTASK_OK);
    spawn(&job, lock_again, &lock);
    (void)sync_value(&job);
    ck_assert_status(mtask_rmutex_unlock(&lock), MTASK_OK);
    return arg;
}

START_TEST(a_job_in_place_is_part_of_its_task) {
    run_task(1, check_in_place, NULL);
    (void)run_as_coroutine(check_in_place, NULL);
}
END_TEST

/* In a coroutine the job has run when spawn returns. */
static void *check_at_once(void *arg) {
    mtask_word ran = 0;
    mtask_job job;
    spawn(&job, set_word, &ran);
    testing_check(mtask_word_load(&ran) == 1);
    testing_check(sync_value(&job) == &ran);
    return arg;
}

/* A worker whose coroutine is done has its own jobs again. */
static void *check_beside_coroutine(void *arg) {
    mtask_word ran = 0;
    mtask_job job;
    spawn(&job, set_word, &ran);
    (void)run_as_coroutine(check_at_once, NULL);
    testing_check(mtask_word_load(&ran) == 0); /* there is but one worker */
    testing_check(sync_value(&job) == &ran);
    return arg;
}

START_TEST(in_a_coroutine_a_job_runs_at_once) {
    (void)run_as_coroutine(check_at_once, NULL);
    run_task(1, check_beside_coroutine, NULL);
}
END_TEST

/* ---- failures ---- */

static void *fail_with_text(void *arg) {
    return mtask_fail(MTASK_NOT_FOUND, "no number %d", *(const int *)arg);
}

static void *fail_plainly(void *arg) {
    (void)arg;
    return mtask_fail(MTASK_OK, NULL);
}

static void check_failure(mtask_status status, const char *text) {
    mtask_outcome outcome;
    memset(&outcome, 0x5a, sizeof outcome);
    ck_assert_status(mtask_failure(&outcome), status);
    ck_assert_status(outcome.status, status);
    testing_check(strcmp(outcome.text, text) == 0);
}

/* Ends a job that has failed; returns what passes the failure on. */
static void *sync_failure(mtask_job *job, mtask_status status, const char *text) {
    void *value = NULL;
    ck_assert_status(mtask_job_sync(job, &value), MTASK_FAILED);
    check_failure(status, text);
    return value;
}

static void *check_failures(void *arg) {
    int number = 7;
    mtask_job job;
    spawn(&job, fail_with_text, &number);
    (void)sync_failure(&job, MTASK_NOT_FOUND, "no number 7");
    spawn(&job, fail_plainly, NULL);
    (void)sync_failure(&job, MTASK_FAILED, "");
    spawn(&job, fail_with_text, &number);
    ck_assert_status(mtask_job_sync(&job, NULL), MTASK_FAILED);
    spawn(&job, same, &job); /* the next one does not inherit it */
    testing_check(sync_value(&job) == &job);
    return arg;
}

START_TEST(a_failed_job_tells_status_and_text) {
    run_everywhere(check_failures, NULL);
}
END_TEST

/* Passes on the failure of what lies `depth` jobs below. */
static void *fail_below(void *arg) {
    intptr_t depth = (intptr_t)arg;
    mtask_job job;
    void *value = NULL;
    if (depth == 0)
        return mtask_fail(MTASK_OVERFLOW, "too %s", "deep");
    spawn(&job, fail_below, as_number(depth - 1));
    ck_assert_status(mtask_job_sync(&job, &value), MTASK_FAILED);
    return value;
}

START_TEST(a_failure_can_be_passed_on) {
    for (unsigned workers = 1; workers <= 3; workers++) {
        mtask_outcome outcome;
        memset(&outcome, 0x5a, sizeof outcome);
        ck_assert_status(run_and_destroy(open_pool(workers, 0), fail_below, as_number(9), &outcome),
                         MTASK_FAILED);
        ck_assert_status(outcome.status, MTASK_OVERFLOW);
        ck_assert_ptr_null(outcome.value);
        ck_assert_str_eq(outcome.text, "too deep");
    }
}
END_TEST

static void *drop_failure(void *arg) {
    int number = 7;
    mtask_job job;
    void *value;
    spawn(&job, fail_with_text, &number);
    ck_assert_status(mtask_job_sync(&job, &value), MTASK_FAILED);
    return arg;
}

START_TEST(a_failure_that_is_not_passed_on_fails_nobody) {
    int here;
    mtask_outcome outcome;
    ck_assert_status(run_and_destroy(open_pool(1, 0), drop_failure, &here, &outcome), MTASK_OK);
    ck_assert_ptr_eq(outcome.value, &here);
    ck_assert_str_eq(outcome.text, "");
}
END_TEST

/* ---- stolen jobs ---- */

/* A job that another worker is sure to take: its owner waits until it has begun. */
typedef struct stolen {
    mtask_job job;
    mtask_fn fn;
    void *arg;
    mtask_word begun;
    uint64_t task; /* that runs it */
} stolen;

static void *run_stolen(void *arg) {
    stolen *self = (stolen *)arg;
    self->task = mtask_task_id();
    mtask_word_store(&self->begun, 1);
    return self->fn(self->arg);
}

static void spawn_stolen(stolen *self, mtask_fn fn, void *arg) {
    self->fn = fn;
    self->arg = arg;
    mtask_word_store(&self->begun, 0);
    spawn(&self->job, run_stolen, self);
    await_word(&self->begun, 1);
}

static void *check_stolen_value(void *arg) {
    stolen other;
    int here;
    spawn_stolen(&other, same, &here);
    testing_check(sync_value(&other.job) == &here);
    testing_check(other.task != mtask_task_id());
    spawn_stolen(&other, same, NULL);
    ck_assert_status(mtask_job_sync(&other.job, NULL), MTASK_OK);
    return arg;
}

START_TEST(a_stolen_job_gives_its_value) {
    mtask_pool *pool = open_pool(2, 0);
    mtask_pool_stats stats;
    mtask_future *future;
    ck_assert_status(mtask_pool_submit(pool, check_stolen_value, NULL, &future), MTASK_OK);
    ck_assert_status(mtask_future_get(future, NULL, MTASK_FOREVER), MTASK_OK);
    mtask_future_release(future);
    ck_assert_status(mtask_pool_get_stats(pool, &stats, NULL, 0), MTASK_OK);
    ck_assert_uint_eq(stats.stolen, 2);
    ck_assert_status(mtask_pool_destroy(pool), MTASK_OK);
    (void)check_stolen_value(NULL); /* by the default pool */
}
END_TEST

static void *fail_at_length(void *arg) {
    char text[2 * MTASK_TEXT_SIZE];
    (void)arg;
    memset(text, 't', sizeof text);
    text[sizeof text - 1] = '\0';
    return mtask_fail(MTASK_AUTH, "%s", text);
}

static void *check_stolen_failure(void *arg) {
    stolen other;
    mtask_outcome outcome;
    int number = 12;
    spawn_stolen(&other, fail_with_text, &number);
    (void)sync_failure(&other.job, MTASK_NOT_FOUND, "no number 12");
    spawn_stolen(&other, fail_plainly, NULL);
    (void)sync_failure(&other.job, MTASK_FAILED, "");
    spawn_stolen(&other, fail_at_length, NULL);
    ck_assert_status(mtask_job_sync(&other.job, NULL), MTASK_FAILED);
    ck_assert_status(mtask_failure(&outcome), MTASK_AUTH);
    testing_check(strspn(outcome.text, "t") == MTASK_TEXT_SIZE - 1);
    spawn_stolen(&other, same, &number);
    testing_check(sync_value(&other.job) == &number);
    return arg;
}

static void *pass_stolen_failure(void *arg) {
    stolen other;
    spawn_stolen(&other, fail_with_text, arg);
    return sync_failure(&other.job, MTASK_NOT_FOUND, "no number 3");
}

START_TEST(a_stolen_job_that_fails_tells_status_and_text) {
    mtask_outcome outcome;
    int number = 3;
    run_task(2, check_stolen_failure, NULL);
    (void)check_stolen_failure(NULL);
    ck_assert_status(run_and_destroy(open_pool(2, 0), pass_stolen_failure, &number, &outcome),
                     MTASK_FAILED);
    ck_assert_status(outcome.status, MTASK_NOT_FOUND);
    ck_assert_str_eq(outcome.text, "no number 3");
}
END_TEST

typedef struct sleeper {
    mtask_event go;
    mtask_word tid; /* of the thread that syncs */
} sleeper;

static void *await_go(void *arg) {
    ck_assert_status(mtask_event_wait(&((sleeper *)arg)->go, MTASK_FOREVER), MTASK_OK);
    return arg;
}

static void *sync_sleeper(void *arg) {
    sleeper *self = (sleeper *)arg;
    stolen other;
    spawn_stolen(&other, await_go, self);
    mtask_word_store(&self->tid, (mtask_word)syscall(SYS_gettid));
    testing_check(sync_value(&other.job) == self);
    return arg;
}

/* Lets it go when the thread that syncs is asleep. */
static void wake_sleeper(testing_member *member) {
    sleeper *self = (sleeper *)member->arg;
    while (mtask_word_load(&self->tid) == 0 ||
           !testing_is_asleep(getpid(), (int)mtask_word_load(&self->tid)))
        testing_pause(1);
    mtask_event_set(&self->go);
}

START_TEST(a_sync_sleeps_while_the_thief_works) {
    for (int outside = 0; outside < 2; outside++) {
        testing_crowd crowd;
        sleeper self;
        memset(&self, 0, sizeof self);
        testing_crowd_start(&crowd, 1, wake_sleeper, &self);
        if (outside)
            (void)sync_sleeper(&self);
        else
            run_task(2, sync_sleeper, &self);
        testing_crowd_join(&crowd);
    }
}
END_TEST

/* ---- the order of syncs ---- */

static void *check_order(void *arg) {
    mtask_job jobs[3];
    int here[3];
    for (int i = 0; i < 3; i++)
        spawn(&jobs[i], same, &here[i]);
    ck_assert_status(mtask_job_sync(&jobs[0], NULL), MTASK_INVALID);
    ck_assert_status(mtask_job_sync(&jobs[1], NULL), MTASK_INVALID);
    testing_check(sync_value(&jobs[2]) == &here[2]);
    ck_assert_status(mtask_job_sync(&jobs[0], NULL), MTASK_INVALID);
    testing_check(sync_value(&jobs[1]) == &here[1]);
    testing_check(sync_value(&jobs[0]) == &here[0]);
    return arg;
}

/* The same with jobs that were stolen, and perhaps have ended. */
static void *check_order_of_stolen(void *arg) {
    stolen others[2];
    mtask_job last;
    for (int i = 0; i < 2; i++)
        spawn_stolen(&others[i], same, &others[i]);
    ck_assert_status(mtask_job_sync(&others[0].job, NULL), MTASK_INVALID);
    spawn(&last, same, &last);
    ck_assert_status(mtask_job_sync(&others[1].job, NULL), MTASK_INVALID);
    testing_check(sync_value(&last) == &last);
    testing_check(sync_value(&others[1].job) == &others[1]);
    testing_check(sync_value(&others[0].job) == &others[0]);
    return arg;
}

START_TEST(a_sync_out_of_order_is_invalid) {
    for (unsigned workers = 1; workers <= 3; workers++)
        run_task(workers, check_order, NULL);
    run_task(2, check_order_of_stolen, NULL);
    run_task(3, check_order_of_stolen, NULL);
}
END_TEST

static void *check_no_job(void *arg) {
    mtask_job none, job;
    void *value = &none;
    memset(&none, 0, sizeof none);
    ck_assert_status(mtask_job_sync(&none, &value), MTASK_INVALID);
    spawn(&job, same, &job);
    ck_assert_status(mtask_job_sync(&none, &value), MTASK_INVALID);
    testing_check(sync_value(&job) == &job);
    ck_assert_status(mtask_job_sync(&none, &value), MTASK_INVALID);
    return arg;
}

START_TEST(a_job_that_was_not_spawned_cannot_be_synced) {
    run_everywhere(check_no_job, NULL);
}
END_TEST

static void *check_twice(void *arg) {
    mtask_job first, second;
    spawn(&first, same, &first);
    spawn(&second, same, &second);
    (void)sync_value(&second);
    ck_assert_status(mtask_job_sync(&second, NULL), MTASK_INVALID);
    (void)sync_value(&first);
    ck_assert_status(mtask_job_sync(&first, NULL), MTASK_INVALID);
    ck_assert_status(mtask_job_sync(&second, NULL), MTASK_INVALID);
    spawn(&first, fail_plainly, NULL);
    ck_assert_status(mtask_job_sync(&first, NULL), MTASK_FAILED);
    ck_assert_status(mtask_job_sync(&first, NULL), MTASK_INVALID);
    return arg;
}

static void *check_stolen_twice(void *arg) {
    stolen other;
    spawn_stolen(&other, same, &other);
    (void)sync_value(&other.job);
    ck_assert_status(mtask_job_sync(&other.job, NULL), MTASK_INVALID);
    return arg;
}

START_TEST(a_second_sync_is_invalid) {
    run_everywhere(check_twice, NULL);
    run_task(2, check_stolen_twice, NULL);
    (void)check_stolen_twice(NULL);
}
END_TEST

/* ---- more jobs than there is room for ---- */

enum { BEYOND = 100 };

typedef struct crowded {
    size_t jobs; /* for how many there is room */
} crowded;

static void *check_room(void *arg) {
    const crowded *self = (const crowded *)arg;
    mtask_job jobs[BEYOND];
    mtask_word count = 0;
    for (int round = 0; round < 3; round++) {
        mtask_word_store(&count, 0);
        for (int i = 0; i < BEYOND; i++)
            spawn(&jobs[i], add_one, &count);
        testing_check(mtask_word_load(&count) == BEYOND - (mtask_word)self->jobs);
        for (int i = BEYOND; i-- > 0;)
            testing_check(sync_value(&jobs[i]) == &count);
        testing_check(mtask_word_load(&count) == BEYOND);
    }
    return arg;
}

START_TEST(jobs_for_which_there_is_no_room_run_at_once) {
    static const size_t rooms[] = {1, 2, 5, 64, BEYOND};
    for (size_t i = 0; i < sizeof rooms / sizeof *rooms; i++) {
        crowded self = {rooms[i]};
        ck_assert_status(run_and_destroy(open_pool(1, rooms[i]), check_room, &self, NULL),
                         MTASK_OK);
    }
}
END_TEST

/* Each keeps its failure until it is synced, whatever failed since. */
static void *check_failures_in_place(void *arg) {
    enum { N = 6 };
    mtask_job jobs[N];
    int numbers[N];
    for (int i = 0; i < N; i++) {
        numbers[i] = i;
        spawn(&jobs[i], i == 3 ? same : fail_with_text, &numbers[i]);
    }
    for (int i = N; i-- > 0;) {
        char text[MTASK_TEXT_SIZE];
        snprintf(text, sizeof text, "no number %d", i);
        if (i == 3)
            testing_check(sync_value(&jobs[i]) == &numbers[i]);
        else
            (void)sync_failure(&jobs[i], MTASK_NOT_FOUND, text);
    }
    return arg;
}

START_TEST(jobs_that_failed_at_once_keep_their_failures) {
    for (size_t room = 1; room <= 6; room++)
        for (unsigned workers = 1; workers <= 2; workers++)
            ck_assert_status(
                run_and_destroy(open_pool(workers, room), check_failures_in_place, NULL, NULL),
                MTASK_OK);
    (void)run_as_coroutine(check_failures_in_place, NULL);
}
END_TEST

static void *check_twice_without_room(void *arg) {
    mtask_job jobs[4];
    for (int i = 0; i < 4; i++)
        spawn(&jobs[i], same, &jobs[i]);
    for (int i = 4; i-- > 1;) {
        testing_check(sync_value(&jobs[i]) == &jobs[i]);
        ck_assert_status(mtask_job_sync(&jobs[i], NULL), MTASK_INVALID);
    }
    testing_check(sync_value(&jobs[0]) == &jobs[0]); /* the only one there was room for */
    return arg;
}

START_TEST(jobs_that_ran_at_once_are_synced_once) {
    ck_assert_status(run_and_destroy(open_pool(1, 1), check_twice_without_room, NULL, NULL),
                     MTASK_OK);
}
END_TEST

/* Spawns, one in the other, more jobs than a worker has room for. */
static void *spawn_deep(void *arg) {
    intptr_t depth = (intptr_t)arg;
    mtask_job job;
    if (depth == 0)
        return arg;
    spawn(&job, spawn_deep, as_number(depth - 1));
    return as_number((intptr_t)sync_value(&job) + 1);
}

static void *check_deep(void *arg) {
    testing_check((intptr_t)spawn_deep(as_number(2000)) == 2000);
    testing_check((intptr_t)fib(as_number(12)) == 144);
    return arg;
}

START_TEST(jobs_may_be_nested_deeper_than_there_is_room) {
    static const size_t rooms[] = {1, 3, 100, 0};
    for (size_t i = 0; i < sizeof rooms / sizeof *rooms; i++)
        for (unsigned workers = 1; workers <= 2; workers++)
            ck_assert_status(run_and_destroy(open_pool(workers, rooms[i]), check_deep, NULL, NULL),
                             MTASK_OK);
}
END_TEST

static void *spawn_more_than_default(void *arg) {
    enum { N = 10000 };
    mtask_job *jobs = (mtask_job *)malloc(N * sizeof *jobs);
    mtask_word count = 0;
    testing_check(jobs != NULL);
    for (int i = 0; i < N; i++)
        spawn(&jobs[i], add_one, &count);
    for (int i = N; i-- > 0;)
        testing_check(sync_value(&jobs[i]) == &count);
    testing_check(mtask_word_load(&count) == N);
    free(jobs);
    return arg;
}

START_TEST(ten_thousand_jobs_at_once_are_allowed) {
    run_task(1, spawn_more_than_default, NULL);
    run_task(2, spawn_more_than_default, NULL);
    (void)spawn_more_than_default(NULL);
}
END_TEST

/* ---- callers that are no workers ---- */

static void *note_pool(void *arg) {
    *(mtask_pool **)arg = mtask_pool_current();
    return arg;
}

START_TEST(a_job_from_outside_goes_to_the_default_pool) {
    mtask_pool *used = NULL;
    mtask_pool *pool;
    stolen other;
    spawn_stolen(&other, note_pool, &used);
    (void)sync_value(&other.job);
    ck_assert_status(mtask_pool_default(&pool), MTASK_OK);
    ck_assert_ptr_eq(used, pool);
    ck_assert(other.task != mtask_task_id());
}
END_TEST

static void *check_own_pool(void *arg) {
    mtask_pool *used = NULL;
    stolen other;
    spawn_stolen(&other, note_pool, &used);
    (void)sync_value(&other.job);
    testing_check(used == mtask_pool_current() && used != NULL);
    return arg;
}

START_TEST(a_job_of_a_worker_stays_in_its_pool) {
    run_task(2, check_own_pool, NULL);
}
END_TEST

/* All workers of the default pool, kept busy. */
typedef struct blockade {
    mtask_word begun;
    mtask_event end;
} blockade;

static void *stand_in_the_way(void *arg) {
    blockade *self = (blockade *)arg;
    mtask_word_add(&self->begun, 1);
    ck_assert_status(mtask_event_wait(&self->end, MTASK_FOREVER), MTASK_OK);
    return arg;
}

static void blockade_begin(blockade *self) {
    mtask_pool *pool;
    unsigned workers;
    memset(self, 0, sizeof *self);
    ck_assert_status(mtask_pool_default(&pool), MTASK_OK);
    workers = mtask_pool_workers(pool);
    for (unsigned i = 0; i < workers; i++)
        ck_assert_status(mtask_pool_post(pool, stand_in_the_way, self), MTASK_OK);
    await_word(&self->begun, workers);
}

/* Ends it, and returns when the default pool has looked at all that was submitted before. */
static void blockade_end(blockade *self) {
    mtask_future *future;
    mtask_event_set(&self->end);
    ck_assert_status(mtask_pool_submit(NULL, same, NULL, &future), MTASK_OK);
    ck_assert_status(mtask_future_get(future, NULL, MTASK_FOREVER), MTASK_OK);
    mtask_future_release(future);
}

/* On the heap, so that whoever touches the jobs later is caught. */
static void sync_untaken_jobs(void) {
    enum { N = 20 };
    mtask_job *jobs = (mtask_job *)malloc(N * sizeof *jobs);
    uint64_t tasks[N];
    testing_check(jobs != NULL);
    memset(tasks, 0, sizeof tasks);
    for (int i = 0; i < N; i++)
        spawn(&jobs[i], note_task, &tasks[i]);
    for (int i = N; i-- > 0;) {
        testing_check(tasks[i] == 0);
        testing_check(sync_value(&jobs[i]) == &tasks[i]);
        testing_check(tasks[i] == mtask_task_id());
    }
    free(jobs);
}

START_TEST(a_job_from_outside_is_taken_back_if_nobody_began_it) {
    static blockade self;
    mtask_job failing;
    int number = 5;
    blockade_begin(&self);
    sync_untaken_jobs();
    spawn(&failing, fail_with_text, &number);
    (void)sync_failure(&failing, MTASK_NOT_FOUND, "no number 5");
    blockade_end(&self);
}
END_TEST

typedef struct outsiders {
    uint64_t seed;
    int64_t start;
} outsiders;

/* Spawns and syncs jobs from outside, which are sometimes taken at the very same moment. */
static void spawn_from_outside(testing_member *self) {
    const outsiders *play = (const outsiders *)self->arg;
    testing_random random = testing_random_make(play->seed, (unsigned)self->index);
    long rounds = testing_scale(3000);
    for (long round = 0; round < rounds && testing_has_time(play->start); round++) {
        mtask_job *jobs = (mtask_job *)malloc(3 * sizeof *jobs);
        mtask_word count = 0;
        testing_check(jobs != NULL);
        for (int i = 0; i < 3; i++)
            spawn(&jobs[i], add_one, &count);
        testing_dawdle(&random, 2000);
        for (int i = 3; i-- > 0;)
            testing_check(sync_value(&jobs[i]) == &count);
        testing_check(mtask_word_load(&count) == 3);
        free(jobs);
    }
}

START_TEST(jobs_from_many_threads_are_each_run_once) {
    outsiders play = {testing_seed(), mtask_now()};
    testing_crowd crowd;
    testing_crowd_start(&crowd, 4, spawn_from_outside, &play);
    testing_crowd_join(&crowd);
}
END_TEST

static void fib_from_outside(testing_member *self) {
    (void)self;
    (void)check_fib(NULL);
}

START_TEST(many_threads_may_use_jobs_at_once) {
    testing_crowd crowd;
    testing_crowd_start(&crowd, 4, fib_from_outside, NULL);
    testing_crowd_join(&crowd);
}
END_TEST

/* ---- no spawn goes unseen ----

   In what follows jobs wait for each other, or their owner for them, without a sync. Users must not
   do that, since a job may run as late as at its sync. But as long as there is an idle worker for
   each job, each is taken at once: that only a hang can disprove. */

/* How an owner spends its time before it spawns, so that the others look for work, or sleep. */
typedef enum gap { NO_GAP, SHORT_GAP, LONG_GAP, GAPS } gap;

static void spend(gap kind, testing_random *random) {
    if (kind == SHORT_GAP)
        testing_dawdle(random, 40000);
    else if (kind == LONG_GAP)
        testing_pause(1 + (long)testing_below(random, 3));
}

typedef struct meeting {
    unsigned workers;
    gap gap;
    uint64_t seed;
    mtask_barrier barrier; /* where all workers meet */
} meeting;

static bool has_time(int64_t start) {
    return mtask_now() - start < MTASK_MS(40);
}

/* Spawns a job, and computes until it has run: somebody else has to see it. */
static void *spawn_and_compute(void *arg) {
    const meeting *self = (const meeting *)arg;
    testing_random random = testing_random_make(self->seed, self->workers * GAPS + self->gap);
    long rounds = testing_scale(2000);
    int64_t start = mtask_now();
    for (long round = 0; round < rounds && has_time(start); round++) {
        mtask_word ran = 0;
        mtask_job job;
        spend(self->gap, &random);
        spawn(&job, set_word, &ran);
        while (mtask_word_load(&ran) == 0)
            mtask__pause();
        (void)sync_value(&job);
    }
    return arg;
}

static void *set_event(void *arg) {
    mtask_event_set((mtask_event *)arg);
    return arg;
}

/* The same, but it sleeps, and so leaves the CPU to others. */
static void *spawn_and_wait(void *arg) {
    const meeting *self = (const meeting *)arg;
    testing_random random = testing_random_make(self->seed, self->workers * GAPS + self->gap);
    long rounds = testing_scale(2000);
    int64_t start = mtask_now();
    for (long round = 0; round < rounds && has_time(start); round++) {
        mtask_event ran;
        mtask_job job;
        memset(&ran, 0, sizeof ran);
        spend(self->gap, &random);
        spawn(&job, set_event, &ran);
        ck_assert_status(mtask_event_wait(&ran, MTASK_FOREVER), MTASK_OK);
        (void)sync_value(&job);
    }
    return arg;
}

/* Runs fn in pools of several sizes, with all kinds of gaps. */
static void in_all_meetings(mtask_fn fn) {
    static const unsigned sizes[] = {2, 3, 8};
    uint64_t seed = testing_seed();
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (int kind = NO_GAP; kind < GAPS; kind++) {
            meeting self = {.workers = sizes[i], .gap = (gap)kind, .seed = seed};
            ck_assert_status(mtask_barrier_init(&self.barrier, self.workers, NULL, NULL, 0),
                             MTASK_OK);
            run_task(self.workers, fn, &self);
        }
}

START_TEST(an_idle_worker_takes_the_job_of_one_that_computes) {
    in_all_meetings(spawn_and_compute);
}
END_TEST

START_TEST(an_idle_worker_takes_the_job_of_one_that_waits) {
    in_all_meetings(spawn_and_wait);
}
END_TEST

static void *meet(void *arg) {
    meeting *self = (meeting *)arg;
    ck_assert_status(mtask_barrier_wait(&self->barrier, NULL, MTASK_FOREVER), MTASK_OK);
    return arg;
}

/* Spawns a job for each of the other workers, all of which wait for each other. */
static void *spawn_for_all(void *arg) {
    meeting *self = (meeting *)arg;
    testing_random random = testing_random_make(self->seed, self->workers * GAPS + self->gap);
    long rounds = testing_scale(500);
    int64_t start = mtask_now();
    for (long round = 0; round < rounds && has_time(start); round++) {
        mtask_job jobs[8];
        spend(self->gap, &random);
        for (unsigned i = 1; i < self->workers; i++)
            spawn(&jobs[i], meet, self);
        (void)meet(self);
        for (unsigned i = self->workers; i-- > 1;)
            testing_check(sync_value(&jobs[i]) == self);
    }
    return arg;
}

START_TEST(all_workers_get_up_for_as_many_jobs) {
    in_all_meetings(spawn_for_all);
}
END_TEST

typedef struct relay {
    meeting *meeting;
    unsigned left; /* workers that are still to come */
} relay;

/* Spawns the next worker's part, and waits for all of them. */
static void *pass_baton(void *arg) {
    const relay *self = (const relay *)arg;
    relay next = {self->meeting, self->left - 1};
    mtask_job job;
    if (self->left > 0)
        spawn(&job, pass_baton, &next);
    (void)meet(self->meeting);
    if (self->left > 0)
        (void)sync_value(&job);
    return arg;
}

/* The workers meet because each spawns a part for two others. */
static void *branch(void *arg) {
    const relay *self = (const relay *)arg;
    relay left = {self->meeting, self->left / 2};
    relay right = {self->meeting, self->left - self->left / 2};
    mtask_job job;
    if (self->left == 1)
        return meet(self->meeting);
    spawn(&job, branch, &right);
    (void)branch(&left);
    (void)sync_value(&job);
    return arg;
}

/* Lets all workers meet, each called by another one. */
static void *spread(void *arg, mtask_fn fn, unsigned left) {
    meeting *self = (meeting *)arg;
    testing_random random = testing_random_make(self->seed, self->workers * GAPS + self->gap);
    relay first = {self, left};
    long rounds = testing_scale(500);
    int64_t start = mtask_now();
    for (long round = 0; round < rounds && has_time(start); round++) {
        spend(self->gap, &random);
        (void)fn(&first);
    }
    return arg;
}

static void *spread_by_relay(void *arg) {
    return spread(arg, pass_baton, ((const meeting *)arg)->workers - 1);
}

static void *spread_by_tree(void *arg) {
    return spread(arg, branch, ((const meeting *)arg)->workers);
}

START_TEST(each_worker_gets_up_for_the_job_of_the_one_before) {
    in_all_meetings(spread_by_relay);
}
END_TEST

START_TEST(all_workers_get_up_for_a_tree_of_jobs) {
    in_all_meetings(spread_by_tree);
}
END_TEST

/* Two owners at once; their jobs and they themselves are all workers. */
START_TEST(the_jobs_of_two_owners_are_seen) {
    uint64_t seed = testing_seed();
    testing_random random = testing_random_make(seed, 0);
    mtask_pool *pool = open_pool(6, 0);
    int64_t start = mtask_now();
    for (long round = testing_scale(300); round > 0 && testing_has_time(start); round--) {
        meeting self = {.workers = 6};
        relay owners[2] = {{&self, 1}, {&self, 3}};
        mtask_future *futures[2];
        ck_assert_status(mtask_barrier_init(&self.barrier, 6, NULL, NULL, 0), MTASK_OK);
        spend((gap)testing_below(&random, GAPS), &random);
        for (int i = 0; i < 2; i++)
            ck_assert_status(mtask_pool_submit(pool, pass_baton, &owners[i], &futures[i]),
                             MTASK_OK);
        for (int i = 0; i < 2; i++) {
            ck_assert_status(mtask_future_get(futures[i], NULL, MTASK_FOREVER), MTASK_OK);
            mtask_future_release(futures[i]);
        }
    }
    ck_assert_status(mtask_pool_destroy(pool), MTASK_OK);
}
END_TEST

/* The caller is no worker, and meets all of the default pool's. */
START_TEST(all_workers_get_up_for_jobs_from_outside) {
    testing_random random = testing_random_make(testing_seed(), 0);
    mtask_pool *pool;
    mtask_job jobs[64];
    meeting self;
    int64_t start = mtask_now();
    unsigned others;
    ck_assert_status(mtask_pool_default(&pool), MTASK_OK);
    others = mtask_pool_workers(pool) < 64 ? mtask_pool_workers(pool) : 64;
    ck_assert_status(mtask_barrier_init(&self.barrier, others + 1, NULL, NULL, 0), MTASK_OK);
    for (long round = testing_scale(1000); round > 0 && testing_has_time(start); round--) {
        spend((gap)testing_below(&random, GAPS), &random);
        for (unsigned i = 0; i < others; i++)
            spawn(&jobs[i], meet, &self);
        (void)meet(&self);
        for (unsigned i = others; i-- > 0;)
            testing_check(sync_value(&jobs[i]) == &self);
    }
}
END_TEST

/* ---- a sync does what its thief has to offer ---- */

typedef struct ladder {
    int rungs; /* that are left */
    gap gap;
    testing_random *random;
} ladder;

/* Spawns a job that has to run while this one does: with two workers only the one can take it that
   syncs this one; so they climb in turns. */
static void *climb(void *arg) {
    const ladder *self = (const ladder *)arg;
    ladder next = {self->rungs - 1, self->gap, self->random};
    stolen other;
    if (self->rungs == 0)
        return arg;
    spend(self->gap, self->random);
    spawn_stolen(&other, climb, &next);
    testing_check(sync_value(&other.job) == &next);
    return arg;
}

typedef struct climbers {
    gap gap;
    uint64_t seed;
} climbers;

static void *climb_often(void *arg) {
    const climbers *self = (const climbers *)arg;
    testing_random random = testing_random_make(self->seed, self->gap);
    long rounds = testing_scale(200);
    int64_t start = mtask_now();
    for (long round = 0; round < rounds && mtask_now() - start < MTASK_MS(300); round++) {
        ladder first = {(int)(round % 12), self->gap, &random};
        (void)climb(&first);
    }
    return arg;
}

START_TEST(a_sync_takes_the_jobs_of_its_thief) {
    uint64_t seed = testing_seed();
    for (int kind = NO_GAP; kind < GAPS; kind++) {
        climbers self = {(gap)kind, seed};
        run_task(2, climb_often, &self);
    }
}
END_TEST

/* ---- jobs, tasks and futures together ---- */

START_TEST(jobs_of_many_tasks_do_not_mix) {
    enum { N = 100 };
    for (unsigned workers = 1; workers <= 4; workers++) {
        mtask_pool *pool = open_pool(workers, 0);
        mtask_future *futures[N];
        for (int i = 0; i < N; i++)
            ck_assert_status(mtask_pool_submit(pool, fib, as_number(10 + i % 3), &futures[i]),
                             MTASK_OK);
        for (int i = 0; i < N; i++) {
            static const intptr_t values[] = {55, 89, 144};
            mtask_outcome outcome;
            ck_assert_status(mtask_future_get(futures[i], &outcome, MTASK_FOREVER), MTASK_OK);
            ck_assert_int_eq((intptr_t)outcome.value, values[i % 3]);
            mtask_future_release(futures[i]);
        }
        ck_assert_status(mtask_pool_destroy(pool), MTASK_OK);
    }
}
END_TEST

/* Waits, below a job of its own, for a task that its worker runs meanwhile. */
static void *wait_below_job(void *arg) {
    mtask_future *future;
    mtask_outcome outcome;
    mtask_job job;
    spawn(&job, fib, as_number(9));
    ck_assert_status(mtask_pool_submit(mtask_pool_current(), fib, as_number(10), &future),
                     MTASK_OK);
    ck_assert_status(mtask_future_get(future, &outcome, MTASK_FOREVER), MTASK_OK);
    testing_check((intptr_t)outcome.value == 55);
    mtask_future_release(future);
    testing_check((intptr_t)sync_value(&job) == 34);
    return arg;
}

/* The same in a job. */
static void *wait_in_job(void *arg) {
    mtask_job jobs[3];
    for (int i = 0; i < 3; i++)
        spawn(&jobs[i], wait_below_job, arg);
    for (int i = 3; i-- > 0;)
        (void)sync_value(&jobs[i]);
    return arg;
}

START_TEST(a_task_with_jobs_may_wait_for_other_tasks) {
    for (unsigned workers = 1; workers <= 3; workers++) {
        run_task(workers, wait_below_job, NULL);
        run_task(workers, wait_in_job, NULL);
    }
    (void)wait_in_job(NULL);
}
END_TEST

static void *use_jobs_at_the_end(void *arg) {
    ck_assert_status(mtask_pool_terminate(mtask_pool_current()), MTASK_OK);
    return check_fib(arg);
}

START_TEST(jobs_work_in_a_pool_that_ends) {
    run_task(1, use_jobs_at_the_end, NULL);
    run_task(3, use_jobs_at_the_end, NULL);
}
END_TEST

static void deinit_with_jobs(void *ctx) {
    (void)check_fib(ctx);
}

START_TEST(jobs_work_in_init_and_deinit) {
    mtask_pool_desc desc = {0};
    mtask_pool *pool;
    desc.workers = 2;
    desc.init = check_fib;
    desc.deinit = deinit_with_jobs;
    ck_assert_status(mtask_pool_create(&pool, &desc), MTASK_OK);
    ck_assert_status(run_and_destroy(pool, check_fib, NULL, NULL), MTASK_OK);
}
END_TEST

/* ---- trees grown by chance ---- */

typedef struct branching {
    uint64_t seed;
    int depth;
} branching;

static void text_of(const branching *self, char text[MTASK_TEXT_SIZE]) {
    snprintf(text, MTASK_TEXT_SIZE, "branch %llx", (unsigned long long)self->seed);
}

static bool is_rotten(const branching *self) {
    return self->seed % 16 == 0;
}

/* How many branches it has, and which. */
static int branches_of(const branching *self, branching branches[4]) {
    testing_random random = testing_random_make(self->seed, 0);
    int count = self->depth == 0 ? 0 : (int)testing_below(&random, 5);
    for (int i = 0; i < count; i++) {
        branches[i].seed = testing_next(&random);
        branches[i].depth = self->depth - 1;
    }
    return count;
}

/* The size of the tree, found without jobs; a rotten branch counts as 1. */
static intptr_t measure(const branching *self) {
    branching branches[4];
    intptr_t size = 1;
    if (is_rotten(self))
        return 1;
    for (int i = branches_of(self, branches); i-- > 0;)
        size += measure(&branches[i]);
    return size;
}

static intptr_t sync_branch(mtask_job *job, const branching *self) {
    char text[MTASK_TEXT_SIZE];
    if (!is_rotten(self))
        return (intptr_t)sync_value(job);
    text_of(self, text);
    (void)sync_failure(job, MTASK_CLOSED, text);
    return 1;
}

/* The size of the tree, found with a job for each branch; a rotten one fails. */
static void *grow(void *arg) {
    const branching *self = (const branching *)arg;
    testing_random random = testing_random_make(self->seed, 1);
    branching branches[4];
    mtask_job jobs[4];
    char text[MTASK_TEXT_SIZE];
    intptr_t size = 1;
    int count = branches_of(self, branches);
    text_of(self, text);
    if (is_rotten(self))
        return mtask_fail(MTASK_CLOSED, "%s", text);
    for (int i = 0; i < count; i++)
        spawn(&jobs[i], grow, &branches[i]);
    if (testing_below(&random, 8) == 0)
        testing_dawdle(&random, 2000);
    for (int i = count; i-- > 0;)
        size += sync_branch(&jobs[i], &branches[i]);
    return as_number(size);
}

/* Grows one tree as a task of the pool (NULL: here). */
static void plant(mtask_pool *pool, branching *root) {
    mtask_future *future;
    mtask_outcome outcome;
    root->seed |= 1; /* not rotten */
    if (pool == NULL) {
        testing_check((intptr_t)grow(root) == measure(root));
        return;
    }
    ck_assert_status(mtask_pool_submit(pool, grow, root, &future), MTASK_OK);
    ck_assert_status(mtask_future_get(future, &outcome, MTASK_FOREVER), MTASK_OK);
    testing_check((intptr_t)outcome.value == measure(root));
    mtask_future_release(future);
}

typedef struct forest {
    mtask_pool *pool;
    uint64_t seed;
    int64_t start;
} forest;

static void plant_many(testing_member *self) {
    const forest *play = (const forest *)self->arg;
    testing_random random = testing_random_make(play->seed, (unsigned)self->index);
    long rounds = testing_scale(400);
    for (long round = 0; round < rounds && testing_has_time(play->start); round++) {
        branching root = {testing_next(&random), 2 + (int)testing_below(&random, 7)};
        plant(testing_below(&random, 4) == 0 ? NULL : play->pool, &root);
    }
}

START_TEST(trees_grown_by_chance_have_the_right_size) {
    static const unsigned sizes[] = {1, 2, 5};
    uint64_t seed = testing_seed();
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        forest play = {open_pool(sizes[i], i == 1 ? 3 : 0), seed + i, mtask_now()};
        testing_crowd crowd;
        testing_crowd_start(&crowd, 3, plant_many, &play);
        testing_crowd_join(&crowd);
        ck_assert_status(mtask_pool_destroy(play.pool), MTASK_OK);
    }
}
END_TEST

TESTING_MAIN("mtask_job", fib_is_right_with_any_number_of_workers,
             fib_is_right_wherever_it_is_called, sync_gives_what_the_job_returned,
             each_of_many_jobs_runs_once, a_job_needs_a_function,
             a_job_in_place_is_part_of_its_task, in_a_coroutine_a_job_runs_at_once,
             a_failed_job_tells_status_and_text, a_failure_can_be_passed_on,
             a_failure_that_is_not_passed_on_fails_nobody, a_stolen_job_gives_its_value,
             a_stolen_job_that_fails_tells_status_and_text, a_sync_sleeps_while_the_thief_works,
             a_sync_out_of_order_is_invalid, a_job_that_was_not_spawned_cannot_be_synced,
             a_second_sync_is_invalid, jobs_for_which_there_is_no_room_run_at_once,
             jobs_that_failed_at_once_keep_their_failures, jobs_that_ran_at_once_are_synced_once,
             jobs_may_be_nested_deeper_than_there_is_room, ten_thousand_jobs_at_once_are_allowed,
             a_job_from_outside_goes_to_the_default_pool, a_job_of_a_worker_stays_in_its_pool,
             a_job_from_outside_is_taken_back_if_nobody_began_it,
             jobs_from_many_threads_are_each_run_once, many_threads_may_use_jobs_at_once,
             an_idle_worker_takes_the_job_of_one_that_computes,
             an_idle_worker_takes_the_job_of_one_that_waits, all_workers_get_up_for_as_many_jobs,
             each_worker_gets_up_for_the_job_of_the_one_before,
             all_workers_get_up_for_a_tree_of_jobs, the_jobs_of_two_owners_are_seen,
             all_workers_get_up_for_jobs_from_outside, a_sync_takes_the_jobs_of_its_thief,
             jobs_of_many_tasks_do_not_mix, a_task_with_jobs_may_wait_for_other_tasks,
             jobs_work_in_a_pool_that_ends, jobs_work_in_init_and_deinit,
             trees_grown_by_chance_have_the_right_size)
