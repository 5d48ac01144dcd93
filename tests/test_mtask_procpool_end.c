/* test_mtask_procpool_end.c - ends of pools of processes and of their workers: close, terminate,
   initializers, limits, crashes, kills, forks */
#include "testing_procpool.h"

#include <sys/prctl.h>

/* Sanitizers do not survive everything that a child of a process with threads may do. */
#define CHILDREN_MAY_DO_ALL (!TESTING_TSAN && !TESTING_ASAN)

/* ---- the pool's end ---- */

static const char *const states[] = {"idle", "new", "full", "held", "closed"};

START_TEST(a_closed_pool_does_what_it_has) {
    mtask_procpool *pool = make_held(one_worker);
    mtask_future *futures[20], *late = NULL;
    mtask_proctask_desc task = {.fn = echo};
    for (int i = 0; i < 20; i++)
        futures[i] = submit_number(pool, square, i);
    ck_assert_status(mtask_procpool_join(pool, MTASK_FOREVER), MTASK_INVALID);
    ck_assert_status(mtask_procpool_close(pool), MTASK_OK);
    ck_assert_status(mtask_procpool_close(pool), MTASK_OK);
    ck_assert_status(mtask_procpool_submit(pool, echo, NULL, 0, &late), MTASK_CLOSED);
    ck_assert_status(mtask_procpool_submit_ex(pool, &task, &late, MTASK_NOWAIT), MTASK_CLOSED);
    ck_assert_status(mtask_procpool_call(pool, echo, NULL, 0, NULL, NULL, MTASK_FOREVER),
                     MTASK_CLOSED);
    ck_assert_ptr_null(late);
    ck_assert_status(mtask_procpool_join(pool, -1), MTASK_INVALID);
    ck_assert_status(mtask_procpool_join(pool, MTASK_NOWAIT), MTASK_TIMEOUT);
    ck_assert_status(mtask_procpool_join(pool, MTASK_MS(5)), MTASK_TIMEOUT);
    open_gate();
    ck_assert_status(mtask_procpool_join(pool, MTASK_FOREVER), MTASK_OK);
    check_no_children();
    for (int i = 0; i < 20; i++)
        ck_assert_int_eq(take_number(futures[i]), i * i);
    ck_assert_status(mtask_procpool_join(pool, MTASK_NOWAIT), MTASK_OK);
    ck_assert_status(mtask_procpool_close(pool), MTASK_OK);
    ck_assert_uint_eq(mtask_procpool_get_stats(pool).alive, 0);
    ck_assert_status(mtask_procpool_destroy(pool), MTASK_OK);
}
END_TEST

START_TEST(terminate_cancels_all_that_is_there) {
    mtask_procpool_desc desc = {.workers = 2};
    mtask_procpool *pool;
    mtask_future *running[2], *pending[20];
    open_board();
    pool = make(&desc);
    for (int i = 0; i < 2; i++)
        running[i] = submit(pool, wait_at_gate, NULL, 0);
    await_shared(&shared->at_gate, 2);
    for (int i = 0; i < 20; i++)
        pending[i] = submit_number(pool, take_lap, i);
    ck_assert_status(mtask_procpool_terminate(pool), MTASK_OK);
    ck_assert_status(mtask_procpool_terminate(pool), MTASK_OK);
    ck_assert_status(mtask_procpool_submit(pool, echo, NULL, 0, NULL), MTASK_CLOSED);
    ck_assert_status(mtask_procpool_join(pool, MTASK_FOREVER), MTASK_OK);
    check_no_children();
    ck_assert_status(mtask_procpool_destroy(pool), MTASK_OK);
    for (int i = 0; i < 20; i++) {
        testing_check(mtask_future_canceled(pending[i]));
        take_canceled(pending[i]);
    }
    for (int i = 0; i < 2; i++)
        take_canceled(running[i]);
    ck_assert_uint_eq(shared->clock, 0);
}
END_TEST

/* Cannot be ended by SIGTERM. */
static mtask_status ignore_terminate(const void *in, size_t size, mtask_buf *out) {
    (void)signal(SIGTERM, SIG_IGN);
    return wait_at_gate(in, size, out);
}

START_TEST(terminate_ends_tasks_that_do_not_want_to) {
    mtask_procpool *pool;
    mtask_future *future;
    open_board();
    pool = open_procpool(1);
    future = submit(pool, ignore_terminate, NULL, 0);
    await_shared(&shared->at_gate, 1);
    ck_assert_status(mtask_procpool_terminate(pool), MTASK_OK);
    ck_assert_status(mtask_procpool_join(pool, MTASK_FOREVER), MTASK_OK);
    take_canceled(future);
    check_no_children();
    ck_assert_status(mtask_procpool_destroy(pool), MTASK_OK);
}
END_TEST

START_TEST(terminate_ends_processes_that_are_stopped) {
    mtask_procpool *pool = open_procpool(2);
    pid_t pids[2];
    get_pids(pool, pids, 2);
    testing_check(kill(pids[0], SIGSTOP) == 0);
    await_state(pids[0], 'T');
    ck_assert_status(mtask_procpool_destroy(pool), MTASK_OK);
    check_no_children();
}
END_TEST

START_TEST(terminate_wakes_those_who_wait_for_tasks) {
    mtask_procpool *pool = make_held(one_worker);
    mtask_future *future = submit(pool, echo, NULL, 0);
    testing_crowd crowd;
    testing_crowd_start(&crowd, 4, get_result, future);
    testing_crowd_await_asleep(&crowd, 4);
    ck_assert_status(mtask_procpool_terminate(pool), MTASK_OK);
    testing_crowd_join(&crowd);
    ck_assert_int_eq(testing_crowd_count(&crowd, MTASK_CANCELED), 4);
    mtask_future_release(future);
    ck_assert_status(mtask_procpool_destroy(pool), MTASK_OK);
}
END_TEST

/* Destroys a pool in a state that has this name; all its futures end. */
static void destroy_in_state(const char *state) {
    enum { TASKS = 200 };
    mtask_procpool_desc desc = {.workers = 2};
    bool held = strcmp(state, "held") == 0, closed = strcmp(state, "closed") == 0;
    mtask_procpool *pool = held ? make_held(desc) : make(&desc);
    int count = strcmp(state, "new") == 0 || strcmp(state, "idle") == 0 ? 0 : TASKS;
    mtask_future *futures[TASKS];
    if (strcmp(state, "idle") == 0)
        check_works(pool);
    for (int i = 0; i < count; i++)
        futures[i] = submit_number(pool, square, i);
    if (closed)
        ck_assert_status(mtask_procpool_close(pool), MTASK_OK);
    ck_assert_status(mtask_procpool_destroy(pool), MTASK_OK);
    check_no_children();
    for (int i = 0; i < count; i++) {
        testing_check(mtask_future_done(futures[i]));
        if (closed)
            testing_check(take_number(futures[i]) == i * i);
        else if (held || mtask_future_get(futures[i], NULL, MTASK_NOWAIT) != MTASK_OK)
            take_canceled(futures[i]);
        else
            testing_check(take_number(futures[i]) == i * i);
    }
}

START_TEST(a_pool_may_be_destroyed_in_any_state) {
    for (size_t i = 0; i < sizeof states / sizeof states[0]; i++)
        destroy_in_state(states[i]);
    ck_assert_status(mtask_procpool_destroy(NULL), MTASK_OK);
}
END_TEST

static void join_pool(testing_member *self) {
    self->status = mtask_procpool_join((mtask_procpool *)self->arg,
                                       self->index == 0 ? MTASK_FOREVER : MTASK_SEC(60));
}

START_TEST(several_threads_may_join) {
    mtask_procpool *pool = make_held(one_worker);
    testing_crowd crowd;
    ck_assert_status(mtask_procpool_close(pool), MTASK_OK);
    testing_crowd_start(&crowd, 3, join_pool, pool);
    testing_crowd_await_asleep(&crowd, 3);
    open_gate();
    testing_crowd_join(&crowd);
    ck_assert_int_eq(testing_crowd_count(&crowd, MTASK_OK), 3);
    ck_assert_status(mtask_procpool_destroy(pool), MTASK_OK);
}
END_TEST

START_TEST(several_pools_do_not_disturb_each_other) {
    mtask_procpool *first = open_procpool(2), *second = open_procpool(2), *third;
    mtask_future *future = submit_exchange(second, 200000, 200000);
    check_works(first);
    (void)take_failure(submit(first, crash_as_told, NULL, 0), MTASK_CRASHED);
    await_workers(first, 3); /* the new one has inherited what there is of the second */
    third = open_procpool(1);
    take_exchange(future, 200000);
    end_procpool(second);
    check_works(first);
    check_works(third);
    ck_assert_status(mtask_procpool_destroy(first), MTASK_OK);
    check_works(third);
    end_procpool(third);
    check_no_children();
}
END_TEST

START_TEST(a_pool_may_have_many_processes) {
    unsigned workers = TESTING_TSAN || TESTING_ASAN ? 20 : 256;
    mtask_procpool *pool = open_procpool(workers);
    mtask_future *futures[256];
    for (unsigned i = 0; i < workers; i++)
        futures[i] = submit_number(pool, square, (long)i);
    for (unsigned i = 0; i < workers; i++)
        ck_assert_int_eq(take_number(futures[i]), (long)(i * i));
    ck_assert_uint_eq(mtask_procpool_get_stats(pool).alive, workers);
    end_procpool(pool);
    check_no_children();
}
END_TEST

/* How many lines of /proc/self/maps name files. */
static int count_mappings(void) {
    char line[512];
    int count = 0;
    FILE *file = fopen("/proc/self/maps", "r");
    testing_check(file != NULL);
    while (fgets(line, sizeof line, file) != NULL)
        count += strchr(line, '/') != NULL;
    fclose(file);
    return count;
}

static void use_a_pool(int round) {
    mtask_procpool_desc desc = {.workers = 2, .max_tasks = 2};
    mtask_procpool *pool = make_mending(desc);
    for (int i = 0; i < 5; i++)
        check_works(pool);
    take_exchange(submit_exchange(pool, 100000, 10000), 10000);
    if (round % 3 == 0)
        (void)take_failure(submit(pool, crash_as_told, NULL, 0), MTASK_CRASHED);
    if (round % 2 == 0)
        ck_assert_status(mtask_procpool_close(pool), MTASK_OK);
    else
        mtask_future_release(submit_number(pool, square, 3));
    ck_assert_status(mtask_procpool_destroy(pool), MTASK_OK);
}

START_TEST(pools_leave_nothing_behind) {
    long rounds = testing_scale(60);
    int fds, mappings;
    for (int i = 0; i < 4; i++)
        use_a_pool(i);
    fds = count_fds();
    mappings = count_mappings();
    for (int i = 0; i < (rounds < 6 ? 6 : rounds); i++)
        use_a_pool(i);
    ck_assert_int_eq(count_fds(), fds);
    ck_assert_int_le(count_mappings(), mappings);
    check_no_children();
}
END_TEST

START_TEST(stats_tell_what_was_done) {
    mtask_procpool_desc desc = {.workers = 2};
    mtask_procpool *pool = make_held(desc);
    mtask_procpool_stats stats = mtask_procpool_get_stats(pool);
    ck_assert(stats.workers == 2 && stats.alive == 2 && stats.started == 2);
    ck_assert(stats.pending == 0 && stats.running == 2 && stats.completed == 0);
    for (int i = 0; i < 3; i++)
        mtask_future_release(submit_number(pool, square, i));
    mtask_future_release(submit_number(pool, fail_as_told, 1));
    cancel(submit_number(pool, square, 1));
    ck_assert_uint_eq(mtask_procpool_get_stats(pool).pending, 4);
    mtask_future_release(submit(pool, crash_as_told, NULL, 0));
    open_gate();
    await_workers(pool, 3);
    ck_assert_status(mtask_procpool_close(pool), MTASK_OK);
    ck_assert_status(mtask_procpool_join(pool, MTASK_FOREVER), MTASK_OK);
    stats = mtask_procpool_get_stats(pool);
    ck_assert(stats.pending == 0 && stats.running == 0 && stats.alive == 0);
    ck_assert_uint_eq(stats.completed, 5);
    ck_assert_uint_eq(stats.failed, 2);
    ck_assert_uint_eq(stats.canceled, 1);
    ck_assert_uint_eq(stats.crashed, 1);
    ck_assert_uint_eq(stats.started, 3);
    ck_assert_status(mtask_procpool_destroy(pool), MTASK_OK);
}
END_TEST

/* ---- after fork ---- */

static mtask_status no_input(mtask_buf *in, void *ctx) {
    (void)in;
    (void)ctx;
    return MTASK_DONE;
}

/* Uses the copies, of a pool and of the future of a task that has not ended, in a forked child. */
static void use_copies(mtask_procpool *pool, mtask_future *pending) {
    mtask_future *future = NULL;
    mtask_procmap_desc map = {.fn = echo, .count = 1};
    mtask_procimap_desc imap = {.fn = echo, .input = no_input};
    mtask_procimap *items = NULL;
    IN_CHILD(mtask_procpool_submit(pool, echo, "x", 1, &future) == MTASK_BROKEN);
    IN_CHILD(mtask_procpool_call(pool, echo, "x", 1, NULL, NULL, MTASK_SEC(9)) == MTASK_BROKEN);
    IN_CHILD(mtask_procpool_map(pool, &map, NULL, MTASK_FOREVER) == MTASK_BROKEN);
    IN_CHILD(mtask_procpool_map_async(pool, &map, &future) == MTASK_BROKEN);
    IN_CHILD(mtask_procpool_imap(pool, &imap, &items) == MTASK_BROKEN);
    IN_CHILD(future == NULL && items == NULL);
    IN_CHILD(mtask_future_get(pending, NULL, MTASK_FOREVER) == MTASK_BROKEN);
    IN_CHILD(mtask_procpool_close(pool) == MTASK_BROKEN);
    IN_CHILD(mtask_procpool_terminate(pool) == MTASK_BROKEN);
    IN_CHILD(mtask_procpool_join(pool, MTASK_FOREVER) == MTASK_BROKEN);
    if (CHILDREN_MAY_DO_ALL) {
        mtask_future_release(pending);
        IN_CHILD(mtask_procpool_destroy(pool) == MTASK_OK);
    }
}

START_TEST(a_forked_child_has_a_broken_copy) {
    mtask_procpool *pool = make_held(one_worker);
    mtask_future *pending = submit(pool, echo, "x", 1);
    pid_t child = fork_child();
    if (child == 0) {
        use_copies(pool, pending);
        _exit(0);
    }
    reap(child);
    open_gate();
    take_bytes(pending, "x", 1); /* the parent's goes on */
    check_works(pool);
    end_procpool(pool);
}
END_TEST

static mtask_status use_pool_of_own(const void *in, size_t size, mtask_buf *out) {
    mtask_procpool *pool;
    mtask_buf result = {0};
    mtask_procpool_desc desc = {.workers = 1};
    IN_CHILD(mtask_procpool_create(&pool, &desc) == MTASK_OK);
    IN_CHILD(mtask_procpool_call(pool, square, in, size, &result, NULL, MTASK_SEC(20)) == MTASK_OK);
    IN_CHILD(mtask_procpool_destroy(pool) == MTASK_OK);
    IN_CHILD(mtask_buf_append(out, result.data, result.size) == MTASK_OK);
    mtask_buf_free(&result);
    return MTASK_OK;
}

START_TEST(a_worker_may_have_a_pool_of_its_own) {
    mtask_procpool *pool;
    if (!CHILDREN_MAY_DO_ALL)
        return;
    pool = open_procpool(1);
    for (long i = 0; i < 3; i++)
        ck_assert_int_eq(take_number(submit_number(pool, use_pool_of_own, i)), i * i);
    end_procpool(pool);
}
END_TEST
/* ---- initializers ---- */

static long initial; /* what the initializer of this process has left */
static long initialized;

static mtask_status set_initial(const void *in, size_t size, mtask_buf *out) {
    initial = number_in(in, size);
    initialized++;
    if (shared != NULL)
        mtask_word_add(&shared->clock, 1);
    return mtask_buf_printf(out, "dropped");
}

static mtask_status add_initial(const void *in, size_t size, mtask_buf *out) {
    IN_CHILD(initialized == 1);
    return put_number(out, number_in(in, size) + initial);
}

START_TEST(an_initializer_runs_once_in_each_worker) {
    long number = 1000;
    mtask_procpool_desc desc = {.workers = 3, .init = set_initial, .init_in = &number};
    mtask_procpool *pool;
    desc.init_size = sizeof number;
    open_board();
    pool = make(&desc);
    number = 0; /* it has been copied */
    for (long i = 0; i < 50; i++)
        ck_assert_int_eq(take_number(submit_number(pool, add_initial, i)), 1000 + i);
    await_shared(&shared->clock, 3);
    (void)take_failure(submit(pool, crash_as_told, NULL, 0), MTASK_CRASHED);
    await_shared(&shared->clock, 4); /* in the one that takes its place, too */
    for (long i = 0; i < 50; i++)
        ck_assert_int_eq(take_number(submit_number(pool, add_initial, i)), 1000 + i);
    end_procpool(pool);
    ck_assert_uint_eq(shared->clock, 4);
    ck_assert_int_eq(initialized, 0);
}
END_TEST

static mtask_status fail_init(const void *in, size_t size, mtask_buf *out) {
    await_shared(&shared->gate, 1);
    (void)in;
    (void)size;
    (void)out;
    (void)mtask_fail(MTASK_NOT_FOUND, "no tools");
    return MTASK_NOT_FOUND;
}

static mtask_status crash_in_init(const void *in, size_t size, mtask_buf *out) {
    await_shared(&shared->gate, 1);
    return crash_as_told(in, size, out);
}

static mtask_status exit_in_init(const void *in, size_t size, mtask_buf *out) {
    (void)in;
    (void)size;
    (void)out;
    await_shared(&shared->gate, 1);
    _exit(0);
}

static void check_is_broken(mtask_procpool *pool) {
    mtask_future *future = NULL;
    mtask_procmap_desc map = {.fn = echo, .count = 3};
    ck_assert_status(mtask_procpool_submit(pool, echo, NULL, 0, &future), MTASK_BROKEN);
    ck_assert_status(mtask_procpool_call(pool, echo, NULL, 0, NULL, NULL, MTASK_FOREVER),
                     MTASK_BROKEN);
    ck_assert_status(mtask_procpool_map(pool, &map, NULL, MTASK_FOREVER), MTASK_BROKEN);
    ck_assert_status(mtask_procpool_map_async(pool, &map, &future), MTASK_BROKEN);
    ck_assert_ptr_null(future);
    ck_assert_status(mtask_procpool_close(pool), MTASK_BROKEN);
    ck_assert_status(mtask_procpool_destroy(pool), MTASK_OK);
    check_no_children();
}

/* Some tasks wait when the initializer fails; their texts are `text`, if one is given. */
static void break_pool(mtask_bytes_fn init, const char *text) {
    enum { TASKS = 30 };
    mtask_procpool_desc desc = {.workers = 2, .init = init};
    mtask_procpool *pool;
    mtask_future *futures[TASKS];
    open_board();
    pool = make(&desc);
    for (int i = 0; i < TASKS; i++)
        futures[i] = submit_number(pool, square, i);
    open_gate();
    for (int i = 0; i < TASKS; i++) {
        mtask_outcome outcome = take_failure(futures[i], MTASK_BROKEN);
        ck_assert_str_ne(outcome.text, "");
        testing_check(text == NULL || strstr(outcome.text, text) != NULL);
    }
    check_is_broken(pool);
}

START_TEST(an_initializer_that_fails_breaks_the_pool) {
    break_pool(fail_init, "no tools");
}
END_TEST

START_TEST(a_process_that_ends_in_its_initializer_breaks_the_pool) {
    break_pool(crash_in_init, NULL);
    break_pool(exit_in_init, NULL);
}
END_TEST

static void submit_to_broken(testing_member *self) {
    self->status = mtask_procpool_submit((mtask_procpool *)self->arg, echo, NULL, 0, NULL);
}

START_TEST(who_waits_in_submit_is_told_that_the_pool_is_broken) {
    mtask_procpool_desc desc = {.workers = 1, .init = fail_init, .backlog = 1};
    mtask_procpool *pool;
    testing_crowd crowd;
    open_board();
    pool = make(&desc);
    mtask_future_release(submit(pool, echo, NULL, 0));
    testing_crowd_start(&crowd, 3, submit_to_broken, pool);
    testing_crowd_await_asleep(&crowd, 3);
    open_gate();
    testing_crowd_join(&crowd);
    ck_assert_int_eq(testing_crowd_count(&crowd, MTASK_BROKEN), 3);
    ck_assert_status(mtask_procpool_destroy(pool), MTASK_OK);
}
END_TEST

START_TEST(a_pool_may_be_destroyed_while_its_processes_begin) {
    mtask_procpool_desc desc = {.workers = 2, .init = fail_init}; /* waits for the gate */
    mtask_procpool *pool;
    mtask_future *future;
    open_board();
    pool = make(&desc);
    future = submit(pool, echo, NULL, 0);
    ck_assert_status(mtask_procpool_destroy(pool), MTASK_OK);
    take_canceled(future);
    check_no_children();
}
END_TEST

/* ---- processes that do only so many tasks ---- */

static void replace_after(size_t max_tasks, unsigned workers) {
    enum { TASKS = 24 };
    mtask_procpool_desc desc = {.workers = workers, .max_tasks = max_tasks};
    mtask_procpool *pool = make_mending(desc);
    mtask_future *futures[TASKS];
    long pids[TASKS];
    mtask_procpool_stats stats;
    for (int i = 0; i < TASKS; i++)
        futures[i] = submit(pool, own_pid, NULL, 0);
    for (int i = 0; i < TASKS; i++) {
        size_t same = 0;
        pids[i] = take_number(futures[i]);
        for (int j = 0; j <= i; j++)
            same += pids[j] == pids[i];
        testing_check(same <= max_tasks);
    }
    for (int i = 1; i < TASKS && workers == 1; i++)
        testing_check((pids[i] != pids[i - 1]) == ((size_t)i % max_tasks == 0));
    ck_assert_status(mtask_procpool_close(pool), MTASK_OK);
    ck_assert_status(mtask_procpool_join(pool, MTASK_FOREVER), MTASK_OK);
    stats = mtask_procpool_get_stats(pool);
    ck_assert_uint_eq(stats.crashed, 0);
    ck_assert_uint_eq(stats.completed, TASKS);
    ck_assert_uint_ge(stats.started, TASKS / max_tasks);
    ck_assert_status(mtask_procpool_destroy(pool), MTASK_OK);
    check_no_children();
}

START_TEST(a_process_ends_after_so_many_tasks) {
    replace_after(1, 1);
    replace_after(1, 3);
    replace_after(3, 1);
    replace_after(7, 2);
}
END_TEST

START_TEST(processes_that_are_replaced_lose_nothing) {
    mtask_procpool_desc desc = {.workers = 2, .max_tasks = 1};
    mtask_procpool *pool = make_mending(desc);
    long count = testing_scale(400);
    for (long round = 0; round < 2; round++) { /* all at once; one by one */
        mtask_future *futures[400];
        for (long i = 0; i < count; i++) {
            futures[i] = submit_exchange(pool, i % 8 == 3 ? 50000 : 20, i % 8 == 5 ? 50000 : 20);
            if (round == 1)
                ck_assert_status(mtask_future_wait(futures[i], MTASK_FOREVER), MTASK_OK);
        }
        for (long i = 0; i < count; i++)
            take_exchange(futures[i], i % 8 == 5 ? 50000 : 20);
        count = count / 4 + 1;
    }
    end_procpool(pool);
}
END_TEST

/* How many of the signals that end a process are blocked. */
static mtask_status count_blocked(const void *in, size_t size, mtask_buf *out) {
    static const int numbers[] = {SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGALRM, SIGCHLD, SIGIO};
    sigset_t set;
    long count = 0;
    (void)in;
    (void)size;
    IN_CHILD(sigprocmask(SIG_BLOCK, NULL, &set) == 0);
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
        count += sigismember(&set, numbers[i]);
    return put_number(out, count);
}

START_TEST(no_signals_are_blocked_in_tasks) {
    mtask_procpool_desc desc = {.workers = 1, .max_tasks = 1};
    mtask_procpool *pool = make(&desc);
    for (size_t i = 1; i <= 3; i++) { /* the first one, and those that take its place */
        await_workers(pool, i);
        ck_assert_int_eq(take_number(submit(pool, count_blocked, NULL, 0)), 0);
    }
    end_procpool(pool);
}
END_TEST

/* ---- limits of time ---- */

START_TEST(a_task_that_takes_too_long_is_killed) {
    mtask_procpool_desc desc = {.workers = 2, .time_limit = MTASK_MS(60)};
    mtask_procpool *pool;
    mtask_future *slow, *quick[20];
    int64_t start;
    open_board();
    pool = make(&desc);
    check_works(pool);
    start = mtask_now();
    slow = submit(pool, wait_at_gate, NULL, 0);
    for (int i = 0; i < 20; i++)
        quick[i] = submit_number(pool, square, i);
    for (int i = 0; i < 20; i++) /* the others go on */
        ck_assert_int_eq(take_number(quick[i]), i * i);
    (void)take_failure(slow, MTASK_TIMEOUT);
    ck_assert_int_ge(mtask_now() - start, MTASK_MS(60));
    await_workers(pool, 3);
    check_works(pool);
    end_procpool(pool);
}
END_TEST

START_TEST(a_task_may_have_a_limit_of_its_own) {
    mtask_procpool_desc desc = {.workers = 1, .time_limit = MTASK_SEC(1000)};
    mtask_proctask_desc task = {.fn = wait_at_gate, .time_limit = MTASK_MS(20)};
    mtask_procpool *pool;
    mtask_future *futures[3];
    open_board();
    pool = make(&desc);
    for (int i = 0; i < 3; i++) {
        task.fn = i == 1 ? ignore_terminate : wait_at_gate;
        futures[i] = submit_desc(pool, &task);
    }
    for (int i = 0; i < 3; i++)
        (void)take_failure(futures[i], MTASK_TIMEOUT);
    end_procpool(pool);
    desc.time_limit = MTASK_MS(1);
    pool = make(&desc);
    task.time_limit = MTASK_SEC(1000);
    task.fn = ignore_terminate;
    futures[0] = submit_desc(pool, &task);
    await_shared(&shared->at_gate, 4);
    testing_pause(10);
    open_gate();
    take_bytes(futures[0], "", 0);
    end_procpool(pool);
}
END_TEST

START_TEST(the_time_that_a_task_waits_does_not_count) {
    mtask_procpool *pool = make_held(one_worker);
    mtask_proctask_desc task = {.fn = echo, .in = "x", .in_size = 1, .time_limit = MTASK_MS(150)};
    mtask_future *future = submit_desc(pool, &task);
    testing_pause(170);
    open_gate();
    take_bytes(future, "x", 1);
    end_procpool(pool);
}
END_TEST

/* ---- crashes ---- */

/* Whether the text says by which signal, or with which code, a process has ended. */
static bool tells_of(const char *text, const crash *how) {
    char number[16];
    if (how->signal != 0)
        return strstr(text, strsignal(how->signal)) != NULL;
    snprintf(number, sizeof number, "%d", how->code);
    return strstr(text, number) != NULL;
}

START_TEST(a_task_that_crashes_costs_only_itself) {
    static const crash crashes[] = {{.signal = SIGSEGV}, {.signal = SIGKILL},
                                    {.signal = SIGABRT}, {.signal = SIGTERM},
                                    {.signal = SIGFPE},  {.code = 3, .atexit = !TESTING_ASAN},
                                    {.code = 77},        {.code = 0}};
    enum { CRASHES = sizeof crashes / sizeof crashes[0] };
    mtask_procpool_desc desc = {.workers = 2};
    mtask_procpool *pool = make_mending(desc);
    mtask_future *bad[CRASHES], *good[CRASHES];
    for (int i = 0; i < CRASHES; i++) {
        bad[i] = submit(pool, crash_as_told, &crashes[i], sizeof crashes[i]);
        good[i] = submit_number(pool, square, i);
    }
    for (int i = 0; i < CRASHES; i++) {
        mtask_outcome outcome = take_failure(bad[i], MTASK_CRASHED);
        ck_assert_msg(tells_of(outcome.text, &crashes[i]), "%d: %s", i, outcome.text);
        ck_assert_int_eq(take_number(good[i]), i * i);
    }
    await_workers(pool, 2 + CRASHES);
    ck_assert_uint_eq(mtask_procpool_get_stats(pool).crashed, CRASHES);
    ck_assert_uint_eq(mtask_procpool_get_stats(pool).failed, CRASHES);
    ck_assert_uint_eq(mtask_procpool_get_stats(pool).started, 2 + CRASHES);
    end_procpool(pool);
    check_no_children();
}
END_TEST

static mtask_status abort_itself(const void *in, size_t size, mtask_buf *out) {
    (void)in;
    (void)size;
    (void)out;
    abort();
}

START_TEST(a_crash_does_not_disturb_who_runs) {
    mtask_procpool_desc desc = {.workers = 2};
    mtask_procpool *pool;
    mtask_future *steady;
    open_board();
    pool = make(&desc);
    steady = submit(pool, wait_at_gate, "steady", 6);
    await_shared(&shared->at_gate, 1);
    for (size_t i = 0; i < 5; i++) {
        (void)take_failure(submit(pool, abort_itself, NULL, 0), MTASK_CRASHED);
        await_workers(pool, 3 + i);
    }
    ck_assert(!mtask_future_done(steady));
    open_gate();
    take_bytes(steady, "steady", 6);
    end_procpool(pool);
}
END_TEST

/* With much on its way in and out. */
START_TEST(a_task_with_big_bytes_may_crash) {
    mtask_procpool_desc desc = {.workers = 2};
    mtask_procpool *pool = make_mending(desc);
    crash how = {.signal = SIGKILL};
    char *in = (char *)calloc(1, 1 << 20);
    mtask_future *bad[4], *good[4];
    testing_check(in != NULL);
    memcpy(in, &how, sizeof how);
    for (int i = 0; i < 4; i++) {
        bad[i] = submit(pool, crash_as_told, in, 1 << 20);
        good[i] = submit_exchange(pool, 300000, 300000);
    }
    for (int i = 0; i < 4; i++) {
        (void)take_failure(bad[i], MTASK_CRASHED);
        take_exchange(good[i], 300000);
    }
    free(in);
    end_procpool(pool);
}
END_TEST

START_TEST(idle_workers_that_are_killed_are_replaced) {
    enum { WORKERS = 3 };
    mtask_procpool_desc desc = {.workers = WORKERS};
    mtask_procpool *pool = make_mending(desc);
    pid_t pids[WORKERS], later[WORKERS];
    check_works(pool);
    get_pids(pool, pids, WORKERS);
    testing_check(kill(pids[1], SIGKILL) == 0);
    await_workers(pool, WORKERS + 1);
    check_works(pool);
    get_pids(pool, pids, WORKERS);
    for (int i = 0; i < WORKERS; i++) /* all of them */
        testing_check(kill(pids[i], i == 0 ? SIGTERM : SIGKILL) == 0);
    for (int i = 0; i < WORKERS; i++)
        await_end(pids[i]);
    check_works(pool);
    await_workers(pool, WORKERS + 1 + WORKERS);
    get_pids(pool, later, WORKERS);
    for (int i = 0; i < WORKERS; i++)
        for (int j = 0; j < WORKERS; j++)
            ck_assert_int_ne(pids[i], later[j]);
    ck_assert_uint_eq(mtask_procpool_get_stats(pool).crashed, WORKERS + 1);
    end_procpool(pool);
    check_no_children();
}
END_TEST

/* Kills a worker now and then while small and big tasks are done: each ends, right or crashed. */
START_TEST(tasks_end_though_workers_are_killed) {
    enum { BATCH = 40, WORKERS = 3 };
    testing_random random = testing_random_make(testing_seed(), 0);
    mtask_procpool_desc desc = {.workers = WORKERS};
    mtask_procpool *pool = make_mending(desc);
    long crashed = 0, killed = 0, rounds = testing_scale(60);
    int64_t start = mtask_now();
    for (long round = 0; round < rounds && testing_has_time(start); round++) {
        mtask_future *futures[BATCH];
        pid_t pids[WORKERS];
        size_t alive = mtask_procpool_pids(pool, pids, WORKERS);
        for (int i = 0; i < BATCH; i++)
            futures[i] = submit_exchange(pool, i % 4 == 1 ? 30000 : 16, i % 4 == 2 ? 100000 : 16);
        testing_dawdle(&random, 200000);
        if (alive > 0)
            killed += kill(pids[testing_below(&random, alive)], SIGKILL) == 0;
        for (int i = 0; i < BATCH; i++) {
            mtask_status status = mtask_future_get(futures[i], NULL, MTASK_FOREVER);
            crashed += status != MTASK_OK;
            if (status == MTASK_OK)
                take_exchange(futures[i], i % 4 == 2 ? 100000 : 16);
            else
                (void)take_failure(futures[i], MTASK_CRASHED);
        }
    }
    ck_assert_int_le(crashed, killed);
    check_works(pool);
    end_procpool(pool);
    check_no_children();
}
END_TEST

/* ---- the end of the parent ---- */

/* What the parent of a pool, in a process of its own, tells those who watch it. */
typedef struct family {
    pid_t pids[3];   /* the workers */
    pid_t child;     /* a process that it has forked, by itself */
    mtask_word told; /* 1: all of this */
} family;

static mtask_status burn(const void *in, size_t size, mtask_buf *out) {
    (void)in;
    (void)size;
    (void)out;
    mtask_word_add(&shared->at_gate, 1);
    while (mtask_word_load(&shared->gate) == 0) {
    }
    return MTASK_OK;
}

/* Has a pool of three whose workers are idle, compute, and sleep; forks a child; and sleeps. */
static void raise_family(void *arg) {
    family *self = (family *)arg;
    mtask_procpool *pool = open_procpool(3);
    pid_t child;
    IN_CHILD(mtask_procpool_submit(pool, burn, NULL, 0, NULL) == MTASK_OK);
    IN_CHILD(mtask_procpool_submit(pool, wait_at_gate, NULL, 0, NULL) == MTASK_OK);
    await_shared(&shared->at_gate, 2);
    IN_CHILD(mtask_procpool_pids(pool, self->pids, 3) == 3);
    child = fork_child();
    if (child != 0) {
        self->child = child;
        mtask_word_store(&self->told, 1);
    }
    for (;;)
        testing_pause(1000);
}

START_TEST(workers_end_when_their_parent_is_killed) {
    family *self = (family *)share_memory(sizeof *self);
    pid_t parent;
    open_board();
    testing_check(prctl(PR_SET_CHILD_SUBREAPER, 1) == 0); /* they become our children */
    parent = start_plain(raise_family, self);
    await_shared(&self->told, 1);
    for (int i = 0; i < 3; i++)
        testing_check(strchr("SRD", state_of(self->pids[i])) != NULL &&
                      state_of(self->pids[i]) != 0);
    slay(parent);
    for (int i = 0; i < 3; i++)
        testing_check(waitpid(self->pids[i], NULL, 0) == self->pids[i]);
    testing_check(state_of(self->child) != 'Z'); /* who lives on has not kept them alive */
    slay(self->child);
    check_no_children();
}
END_TEST

/* ---- by each method ---- */

static mtask_status own_name(const void *in, size_t size, mtask_buf *out) {
    mtask_proc_info info = mtask_proc_current();
    (void)in;
    (void)size;
    return mtask_buf_printf(out, "%s, %s", info.name, info.daemon ? "daemon" : "none");
}

static void work_by(mtask_proc_method method) {
    long number = 100;
    mtask_procpool_desc desc = {.workers = 2, .method = method, .name = "Crew"};
    mtask_procpool *pool;
    mtask_future *futures[40];
    mtask_outcome outcome;
    desc.init = set_initial;
    desc.init_in = &number;
    desc.init_size = sizeof number;
    desc.max_tasks = 50;
    pool = make(&desc);
    for (int i = 0; i < 40; i++)
        futures[i] = submit_number(pool, add_initial, i);
    for (int i = 0; i < 40; i++)
        ck_assert_int_eq(take_number(futures[i]), 100 + i);
    take_exchange(submit_exchange(pool, 300000, 200000), 200000);
    outcome = take_failure(submit_number(pool, fail_as_told, MTASK_FULL), MTASK_FULL);
    ck_assert_str_ne(outcome.text, "");
    outcome = take_failure(submit(pool, crash_as_told, NULL, 0), MTASK_CRASHED);
    await_workers(pool, 3);
    ck_assert_msg(strstr(outcome.text, strsignal(SIGKILL)) != NULL, "%s", outcome.text);
    ck_assert_int_eq(take_number(submit_number(pool, add_initial, 1)), 101);
    end_procpool(pool);
    ck_assert_int_eq(initialized, 0);
}

START_TEST(a_pool_works_by_each_method) {
    by_each_method(work_by);
    ck_assert_status(mtask_forkserver_stop(), MTASK_OK);
}
END_TEST

static void name_by(mtask_proc_method method) {
    mtask_procpool_desc desc = {.workers = 1, .method = method, .name = "Crew"};
    mtask_procpool *pool = make(&desc);
    take_bytes(submit(pool, own_name, NULL, 0), "Crew-0, daemon", 14);
    ck_assert_status(mtask_procpool_destroy(pool), MTASK_OK);
}

START_TEST(workers_have_names_by_each_method) {
    by_each_method(name_by);
    ck_assert_status(mtask_forkserver_stop(), MTASK_OK);
}
END_TEST

START_TEST(a_function_that_is_in_no_program_is_not_found) {
    mtask_procpool_desc desc = {.workers = 1, .method = MTASK_PROC_SPAWN};
    mtask_procpool *pool = make(&desc);
    void *nowhere = share_memory(4096);
    mtask_bytes_fn fn;
    mtask_future *future = NULL;
    memcpy(&fn, &nowhere, sizeof fn);
    ck_assert_status(mtask_procpool_submit(pool, fn, NULL, 0, &future), MTASK_NOT_FOUND);
    ck_assert_ptr_null(future);
    check_works(pool);
    end_procpool(pool);
}
END_TEST

START_TEST(workers_outlive_the_fork_server) {
    mtask_procpool_desc desc = {.workers = 2, .method = MTASK_PROC_FORKSERVER};
    mtask_procpool *pool = make(&desc);
    pid_t server = mtask_forkserver_pid();
    check_works(pool);
    testing_check(server > 0 && kill(server, SIGKILL) == 0);
    await_end(server);
    (void)take_failure(submit(pool, crash_as_told, NULL, 0), MTASK_CRASHED);
    check_works(pool);
    await_workers(pool, 3); /* by a new server */
    check_works(pool);
    end_procpool(pool);
    ck_assert_status(mtask_forkserver_stop(), MTASK_OK);
}
END_TEST

TESTING_PROC_MAIN("mtask_procpool_end", a_closed_pool_does_what_it_has,
                  terminate_cancels_all_that_is_there, terminate_ends_tasks_that_do_not_want_to,
                  terminate_ends_processes_that_are_stopped,
                  terminate_wakes_those_who_wait_for_tasks, a_pool_may_be_destroyed_in_any_state,
                  several_threads_may_join, several_pools_do_not_disturb_each_other,
                  a_pool_may_have_many_processes, pools_leave_nothing_behind,
                  stats_tell_what_was_done, a_forked_child_has_a_broken_copy,
                  a_worker_may_have_a_pool_of_its_own, an_initializer_runs_once_in_each_worker,
                  an_initializer_that_fails_breaks_the_pool,
                  a_process_that_ends_in_its_initializer_breaks_the_pool,
                  who_waits_in_submit_is_told_that_the_pool_is_broken,
                  a_pool_may_be_destroyed_while_its_processes_begin,
                  a_process_ends_after_so_many_tasks, processes_that_are_replaced_lose_nothing,
                  no_signals_are_blocked_in_tasks, a_task_that_takes_too_long_is_killed,
                  a_task_may_have_a_limit_of_its_own, the_time_that_a_task_waits_does_not_count,
                  a_task_that_crashes_costs_only_itself, a_crash_does_not_disturb_who_runs,
                  a_task_with_big_bytes_may_crash, idle_workers_that_are_killed_are_replaced,
                  tasks_end_though_workers_are_killed, workers_end_when_their_parent_is_killed,
                  a_pool_works_by_each_method, workers_have_names_by_each_method,
                  a_function_that_is_in_no_program_is_not_found, workers_outlive_the_fork_server)
