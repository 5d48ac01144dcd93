/* test_mtask_fork.c - after fork: the child goes on using mtask, the parent notices nothing */
#include "testing.h"

#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>

/* The sanitizers do not support all that a child of a process with threads may do: ThreadSanitizer
   knows no new threads there, and AddressSanitizer's allocator stays locked for ever if another
   thread was in it. There such children use neither threads nor memory. */
#define CHILDREN_MAY_DO_ALL (!TESTING_TSAN && !TESTING_ASAN)

/* Threads of the parent that nobody can join in the child are no leak. */
const char *__tsan_default_options(void);
const char *__tsan_default_options(void) {
    return "die_after_fork=0:report_thread_leaks=0";
}

/* ---- helpers ----

   A child reports by its exit code: the functions that run in it return 0, or the line of the first
   check that failed. Check's own assertions belong to the parent. */

#define CHILD_CHECK(condition)                                                                     \
 do {                                                                                              \
  if (!(condition))                                                                                \
   return __LINE__;                                                                                \
 } while (0)

typedef int (*child_fn)(void *arg);

/* Forks and runs fn(arg) in the child; its pid. A child that hangs is killed. */
static pid_t start_child(child_fn fn, void *arg) {
    pid_t pid;
    fflush(NULL);
    pid = fork();
    if (pid == 0) {
        int line;
        signal(SIGALRM, SIG_DFL); /* Check's handler would kill the test as well */
        alarm((TESTING_TSAN || TESTING_ASAN) ? 100 : 20);
        line = fn(arg);
        if (line != 0)
            dprintf(2, "%s:%d: failed in the child\n", __FILE__, line);
        _exit(line != 0);
    }
    testing_check(pid > 0);
    return pid;
}

/* Fails the test unless the child has ended well. */
static void await_child(pid_t pid) {
    int status = 0;
    testing_check(waitpid(pid, &status, 0) == pid);
    if (WIFSIGNALED(status))
        fprintf(stderr, "the child was ended by signal %d\n", WTERMSIG(status));
    testing_check(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void run_child(child_fn fn, void *arg) {
    await_child(start_child(fn, arg));
}

static void *return_arg(void *arg) {
    return arg;
}

static mtask_event gate;
static mtask_word at_gate; /* how many have come there */

static void *wait_at_gate(void *arg) {
    mtask_word_add(&at_gate, 1);
    ck_assert_status(mtask_event_wait(&gate, MTASK_FOREVER), MTASK_OK);
    return arg;
}

/* Returns when so many threads wait at the gate, and do nothing else. */
static void await_at_gate(mtask_word count) {
    while (mtask_word_load(&at_gate) < count)
        ck_assert_status(mtask_sleep(MTASK_US(200)), MTASK_OK);
}

/* ---- what a child does to see that everything works ---- */

static int use_threads(void *arg) {
    mtask_thread threads[4] = {0};
    mtask_outcome outcome;
    size_t before = mtask_thread_active_count();
    for (int i = 0; i < 4; i++)
        CHILD_CHECK(mtask_thread_start(&threads[i], return_arg, &threads[i]) == MTASK_OK);
    for (int i = 0; i < 4; i++) {
        CHILD_CHECK(mtask_thread_join(&threads[i], &outcome, MTASK_FOREVER) == MTASK_OK);
        CHILD_CHECK(outcome.value == &threads[i]);
    }
    CHILD_CHECK(mtask_thread_spawn(return_arg, arg) == MTASK_OK);
    CHILD_CHECK(mtask_thread_join_all(MTASK_FOREVER) == MTASK_OK);
    CHILD_CHECK(mtask_thread_active_count() == before);
    return 0;
}

typedef struct shared_count {
    mtask_mutex mutex;
    mtask_cond cond;
    int count;
} shared_count;

static void *count_up(void *arg) {
    shared_count *shared = (shared_count *)arg;
    (void)mtask_mutex_lock(&shared->mutex);
    shared->count++;
    (void)mtask_cond_notify(&shared->cond, 1);
    (void)mtask_mutex_unlock(&shared->mutex);
    return NULL;
}

static int use_locks(void *arg) {
    shared_count shared = {0};
    mtask_rmutex rmutex = {0};
    mtask_status status;
    (void)arg;
    CHILD_CHECK(mtask_rmutex_lock(&rmutex) == MTASK_OK && mtask_rmutex_lock(&rmutex) == MTASK_OK);
    CHILD_CHECK(mtask_rmutex_unlock(&rmutex) == MTASK_OK && mtask_rmutex_count(&rmutex) == 1);
    CHILD_CHECK(mtask_rmutex_unlock(&rmutex) == MTASK_OK);
    CHILD_CHECK(mtask_mutex_lock(&shared.mutex) == MTASK_OK);
    CHILD_CHECK(mtask_mutex_lock_for(&shared.mutex, MTASK_MS(1)) == MTASK_TIMEOUT);
    for (int i = 0; i < 3; i++)
        CHILD_CHECK(mtask_thread_spawn(count_up, &shared) == MTASK_OK);
    MTASK_COND_WAIT_FOR(status, &shared.cond, &shared.mutex, MTASK_FOREVER, shared.count == 3);
    CHILD_CHECK(status == MTASK_OK);
    CHILD_CHECK(mtask_mutex_unlock(&shared.mutex) == MTASK_OK);
    CHILD_CHECK(mtask_thread_join_all(MTASK_FOREVER) == MTASK_OK);
    return 0;
}

static void *set_event(void *arg) {
    mtask_event_set((mtask_event *)arg);
    return NULL;
}

static int use_timers(void *arg) {
    mtask_timer timer = {0}, cancelled = {0};
    mtask_event event = {0};
    (void)arg;
    CHILD_CHECK(mtask_timer_start(&cancelled, MTASK_SEC(3600), set_event, &event) == MTASK_OK);
    CHILD_CHECK(mtask_timer_cancel(&cancelled, MTASK_FOREVER) == MTASK_OK);
    CHILD_CHECK(!mtask_event_is_set(&event));
    CHILD_CHECK(mtask_timer_start(&timer, MTASK_MS(1), set_event, &event) == MTASK_OK);
    CHILD_CHECK(mtask_event_wait(&event, MTASK_FOREVER) == MTASK_OK);
    CHILD_CHECK(mtask_timer_cancel(&timer, MTASK_FOREVER) == MTASK_DONE);
    return 0;
}

static void *set_future(void *arg) {
    (void)mtask_future_set((mtask_future *)arg, arg);
    return NULL;
}

static int use_futures(void *arg) {
    mtask_future *futures[18]; /* more than fit in the waiter's own memory */
    mtask_outcome outcome;
    (void)arg;
    for (int i = 0; i < 18; i++)
        CHILD_CHECK(mtask_future_create(&futures[i], NULL) == MTASK_OK);
    CHILD_CHECK(mtask_futures_wait(futures, 18, MTASK_WAIT_ANY, MTASK_MS(1)) == MTASK_TIMEOUT);
    for (int i = 0; i < 18; i++)
        CHILD_CHECK(mtask_thread_spawn(set_future, futures[i]) == MTASK_OK);
    CHILD_CHECK(mtask_futures_wait(futures, 18, MTASK_WAIT_ALL, MTASK_FOREVER) == MTASK_OK);
    CHILD_CHECK(mtask_future_get(futures[0], &outcome, MTASK_NOWAIT) == MTASK_OK);
    CHILD_CHECK(outcome.value == futures[0]);
    CHILD_CHECK(mtask_thread_join_all(MTASK_FOREVER) == MTASK_OK);
    for (int i = 0; i < 18; i++)
        mtask_future_release(futures[i]);
    return 0;
}

static int use_locals(void *arg) {
    mtask_local local = {0};
    CHILD_CHECK(mtask_local_init(&local, NULL) == MTASK_OK);
    CHILD_CHECK(mtask_local_set(&local, &local) == MTASK_OK);
    CHILD_CHECK(mtask_local_get(&local) == &local);
    CHILD_CHECK(mtask_local_deinit(&local) == MTASK_OK);
    (void)arg;
    return 0;
}

static int use_everything(void *arg) {
    static const child_fn all[] = {use_locals, use_locks, use_threads, use_futures, use_timers};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        int line = all[i](arg);
        if (line != 0)
            return line;
    }
    CHILD_CHECK(mtask_sleep(MTASK_US(10)) == MTASK_OK);
    return 0;
}

/* What works without a thread and without memory. */
static int use_locks_alone(void *arg) {
    shared_count shared = {0};
    mtask_rmutex rmutex = {0};
    mtask_event event = {0};
    CHILD_CHECK(mtask_rmutex_lock(&rmutex) == MTASK_OK && mtask_rmutex_lock(&rmutex) == MTASK_OK);
    CHILD_CHECK(mtask_rmutex_unlock(&rmutex) == MTASK_OK && mtask_rmutex_count(&rmutex) == 1);
    CHILD_CHECK(mtask_mutex_lock(&shared.mutex) == MTASK_OK);
    CHILD_CHECK(mtask_mutex_lock_for(&shared.mutex, MTASK_US(10)) == MTASK_TIMEOUT);
    CHILD_CHECK(mtask_cond_wait(&shared.cond, &shared.mutex, MTASK_US(10)) == MTASK_TIMEOUT);
    CHILD_CHECK(mtask_mutex_unlock(&shared.mutex) == MTASK_OK);
    CHILD_CHECK(mtask_event_wait(&event, MTASK_US(10)) == MTASK_TIMEOUT);
    CHILD_CHECK(mtask_thread_set_name(NULL, "child") == MTASK_OK);
    CHILD_CHECK(mtask_sleep(MTASK_US(10)) == MTASK_OK);
    (void)arg;
    return 0;
}

/* What a child of a process with threads can do. */
static int use_after_threads(void *arg) {
    return CHILDREN_MAY_DO_ALL ? use_everything(arg) : use_locks_alone(arg);
}

/* The same in the parent. */
static void use_everything_here(void) {
    ck_assert_int_eq(use_everything(NULL), 0);
}

/* ---- a child of a process that is alone, or has threads ---- */

START_TEST(a_child_of_a_fresh_process_can_use_everything) {
    run_child(use_everything, NULL);
    use_everything_here();
}
END_TEST

/* The child knows that it is alone. */
static int see_that_nobody_is_here(void) {
    mtask_thread_info info;
    size_t count = 0;
    CHILD_CHECK(mtask_thread_active_count() == 1);
    CHILD_CHECK(mtask_thread_enumerate(&info, 1, &count) == MTASK_OK && count == 1);
    CHILD_CHECK(info.main && info.id == mtask_task_id());
    CHILD_CHECK(mtask_thread_join_all(MTASK_FOREVER) == MTASK_OK); /* the parent's are not here */
    return 0;
}

static int be_alone_and_use_everything(void *arg) {
    int line = see_that_nobody_is_here();
    return line != 0 ? line : use_after_threads(arg);
}

START_TEST(a_child_has_one_thread_and_can_use_everything) {
    mtask_thread threads[3] = {0};
    mtask_timer timer = {0};
    mtask_event event = {0};
    for (int i = 0; i < 3; i++)
        ck_assert_status(mtask_thread_start(&threads[i], wait_at_gate, NULL), MTASK_OK);
    await_at_gate(3);
    ck_assert_status(mtask_timer_start(&timer, MTASK_SEC(3600), set_event, &event), MTASK_OK);
    run_child(be_alone_and_use_everything, NULL);
    ck_assert_uint_eq(mtask_thread_active_count(), 5); /* main, three, and the timers' */
    ck_assert_status(mtask_timer_cancel(&timer, MTASK_FOREVER), MTASK_OK);
    mtask_event_set(&gate);
    for (int i = 0; i < 3; i++)
        ck_assert_status(mtask_thread_join(&threads[i], NULL, MTASK_FOREVER), MTASK_OK);
    use_everything_here();
}
END_TEST

static int fork_again(void *arg) {
    int status = 0;
    pid_t pid;
    int line = use_after_threads(arg);
    if (line != 0)
        return line;
    pid = start_child(be_alone_and_use_everything, arg);
    CHILD_CHECK(waitpid(pid, &status, 0) == pid);
    CHILD_CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    return use_after_threads(arg);
}

START_TEST(a_child_of_a_child_can_use_everything) {
    run_child(fork_again, NULL);
    use_everything_here();
}
END_TEST

/* ---- who is main ---- */

static int check_main(void *arg) {
    mtask_thread_info current = mtask_thread_current(), main_thread = mtask_thread_main();
    CHILD_CHECK(current.main && current.alive);
    CHILD_CHECK(current.id == main_thread.id && main_thread.main && main_thread.id != 0);
    CHILD_CHECK(current.id == mtask_task_id());
    CHILD_CHECK(current.native_id == 0 || current.native_id == getpid());
    CHILD_CHECK(current.id != *(uint64_t *)arg); /* the parent's */
    return be_alone_and_use_everything(NULL);
}

static void *fork_here(void *arg) {
    uint64_t id = mtask_task_id();
    run_child(check_main, &id);
    testing_check(mtask_task_id() == id);
    return arg;
}

START_TEST(the_forking_thread_is_main_in_the_child) {
    mtask_thread_info before = mtask_thread_current(), after;
    fork_here(NULL);
    after = mtask_thread_current();
    ck_assert_uint_eq(after.id, before.id);
    ck_assert(after.main);
    ck_assert_str_eq(after.name, before.name);
}
END_TEST

START_TEST(a_started_thread_that_forks_is_main_in_the_child) {
    mtask_thread thread = {0};
    mtask_thread_info main_before = mtask_thread_main();
    ck_assert_status(mtask_thread_start(&thread, fork_here, NULL), MTASK_OK);
    ck_assert_status(mtask_thread_join(&thread, NULL, MTASK_FOREVER), MTASK_OK);
    ck_assert_uint_eq(mtask_thread_main().id, main_before.id);
    use_everything_here();
}
END_TEST

START_TEST(a_daemon_or_spawned_thread_that_forks_is_main_in_the_child) {
    mtask_thread_desc desc = {0};
    mtask_thread thread = {0};
    desc.fn = fork_here;
    desc.daemon = true;
    ck_assert_status(mtask_thread_start_ex(&thread, &desc), MTASK_OK);
    ck_assert_status(mtask_thread_join(&thread, NULL, MTASK_FOREVER), MTASK_OK);
    ck_assert_status(mtask_thread_spawn(fork_here, NULL), MTASK_OK);
    ck_assert_status(mtask_thread_join_all(MTASK_FOREVER), MTASK_OK);
}
END_TEST

START_TEST(a_foreign_thread_that_forks_is_main_in_the_child) {
    pthread_t thread;
    ck_assert_int_eq(pthread_create(&thread, NULL, fork_here, NULL), 0);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    ck_assert_uint_eq(mtask_thread_active_count(), 1);
}
END_TEST

static void *fork_unknown(void *arg) {
    run_child(be_alone_and_use_everything, NULL); /* mtask has never heard of the forking thread */
    return arg;
}

START_TEST(a_thread_unknown_to_mtask_can_fork) {
    pthread_t thread;
    ck_assert_uint_eq(mtask_thread_active_count(), 1);
    ck_assert_int_eq(pthread_create(&thread, NULL, fork_unknown, NULL), 0);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    use_everything_here();
}
END_TEST

START_TEST(a_timer_function_can_fork) {
    mtask_timer timer = {0};
    ck_assert_status(mtask_timer_start(&timer, 0, fork_here, NULL), MTASK_OK);
    ck_assert_status(mtask_thread_join_all(MTASK_FOREVER), MTASK_OK);
    use_everything_here();
}
END_TEST

/* ---- ids ---- */

enum { IDS = 40 };

static void *store_my_id(void *arg) {
    *(uint64_t *)arg = mtask_task_id();
    return NULL;
}

/* Fills `ids` with the caller's and those of new threads. */
static bool collect_ids(uint64_t ids[IDS]) {
    ids[0] = mtask_task_id();
    for (int i = 1; i < IDS; i++) {
        mtask_thread thread = {0};
        if (mtask_thread_start(&thread, store_my_id, &ids[i]) != MTASK_OK ||
            mtask_thread_join(&thread, NULL, MTASK_FOREVER) != MTASK_OK)
            return false;
    }
    return true;
}

static int send_ids(void *arg) {
    uint64_t ids[IDS];
    CHILD_CHECK(collect_ids(ids));
    CHILD_CHECK(write(*(int *)arg, ids, sizeof ids) == (ssize_t)sizeof ids);
    return 0;
}

static int compare_ids(const void *a, const void *b) {
    uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;
    return (left > right) - (left < right);
}

START_TEST(no_two_processes_use_the_same_id) {
    enum { CHILDREN = 6 };
    static uint64_t ids[(CHILDREN + 2) * IDS];
    int ends[2];
    size_t used = IDS;
    ck_assert_int_eq(pipe(ends), 0);
    ck_assert(collect_ids(ids)); /* before the forks, so that all children know the same */
    for (int i = 0; i < CHILDREN; i++, used += IDS) {
        run_child(send_ids, &ends[1]);
        ck_assert_int_eq(read(ends[0], &ids[used], IDS * sizeof ids[0]), IDS * sizeof ids[0]);
    }
    ck_assert(collect_ids(&ids[used]));
    ck_assert_uint_eq(ids[used], ids[0]); /* the parent's main thread keeps its own */
    used += IDS - 1;
    ids[0] = ids[used]; /* count it once */
    qsort(ids, used, sizeof ids[0], compare_ids);
    ck_assert_uint_ne(ids[0], 0);
    for (size_t i = 1; i < used; i++)
        ck_assert_uint_ne(ids[i - 1], ids[i]);
    close(ends[0]);
    close(ends[1]);
}
END_TEST

/* ---- what the forking thread had ---- */

static int unlock_and_lock(void *arg) {
    mtask_mutex *mutex = (mtask_mutex *)arg;
    CHILD_CHECK(mtask_mutex_is_locked(mutex));
    CHILD_CHECK(mtask_mutex_lock_for(mutex, MTASK_NOWAIT) == MTASK_TIMEOUT);
    CHILD_CHECK(mtask_mutex_unlock(mutex) == MTASK_OK);
    CHILD_CHECK(mtask_mutex_lock(mutex) == MTASK_OK);
    CHILD_CHECK(mtask_mutex_unlock(mutex) == MTASK_OK);
    return use_after_threads(NULL);
}

START_TEST(a_mutex_that_the_forking_thread_holds_is_held_in_the_child) {
    mtask_mutex mutex = {0};
    ck_assert_status(mtask_mutex_lock(&mutex), MTASK_OK);
    run_child(unlock_and_lock, &mutex);
    ck_assert(mtask_mutex_is_locked(&mutex));
    ck_assert_status(mtask_mutex_unlock(&mutex), MTASK_OK);
}
END_TEST

static int use_held_rmutex(void *arg) {
    mtask_rmutex *rmutex = (mtask_rmutex *)arg;
    CHILD_CHECK(mtask_rmutex_is_locked(rmutex) && mtask_rmutex_count(rmutex) == 2);
    CHILD_CHECK(mtask_rmutex_lock(rmutex) == MTASK_OK && mtask_rmutex_count(rmutex) == 3);
    for (int i = 0; i < 3; i++)
        CHILD_CHECK(mtask_rmutex_unlock(rmutex) == MTASK_OK);
    CHILD_CHECK(!mtask_rmutex_is_locked(rmutex));
    CHILD_CHECK(mtask_rmutex_unlock(rmutex) == MTASK_NOT_OWNER);
    CHILD_CHECK(mtask_rmutex_lock(rmutex) == MTASK_OK && mtask_rmutex_count(rmutex) == 1);
    CHILD_CHECK(mtask_rmutex_unlock(rmutex) == MTASK_OK);
    return 0;
}

static void *hold_rmutex_and_fork(void *arg) {
    mtask_rmutex rmutex = {0};
    ck_assert_status(mtask_rmutex_lock(&rmutex), MTASK_OK);
    ck_assert_status(mtask_rmutex_lock(&rmutex), MTASK_OK);
    run_child(use_held_rmutex, &rmutex);
    testing_check(mtask_rmutex_count(&rmutex) == 2);
    ck_assert_status(mtask_rmutex_unlock(&rmutex), MTASK_OK);
    ck_assert_status(mtask_rmutex_unlock(&rmutex), MTASK_OK);
    return arg;
}

START_TEST(a_recursive_mutex_that_the_forking_thread_holds_is_its_own_in_the_child) {
    mtask_thread thread = {0};
    hold_rmutex_and_fork(NULL);
    ck_assert_status(mtask_thread_start(&thread, hold_rmutex_and_fork, NULL), MTASK_OK);
    ck_assert_status(mtask_thread_join(&thread, NULL, MTASK_FOREVER), MTASK_OK);
}
END_TEST

static mtask_mutex held_elsewhere;

static void *hold_the_mutex(void *arg) {
    ck_assert_status(mtask_mutex_lock(&held_elsewhere), MTASK_OK);
    mtask_event_set((mtask_event *)arg);
    wait_at_gate(NULL);
    ck_assert_status(mtask_mutex_unlock(&held_elsewhere), MTASK_OK);
    return NULL;
}

static int initialise_again(void *arg) {
    CHILD_CHECK(mtask_mutex_lock_for(&held_elsewhere, MTASK_MS(2)) == MTASK_TIMEOUT);
    CHILD_CHECK(mtask_mutex_init(&held_elsewhere, MTASK_PRIVATE) == MTASK_OK);
    CHILD_CHECK(mtask_mutex_lock(&held_elsewhere) == MTASK_OK);
    CHILD_CHECK(mtask_mutex_unlock(&held_elsewhere) == MTASK_OK);
    (void)arg;
    return 0;
}

START_TEST(a_mutex_that_another_thread_held_can_be_initialised_again) {
    mtask_thread thread = {0};
    mtask_event held = {0};
    ck_assert_status(mtask_thread_start(&thread, hold_the_mutex, &held), MTASK_OK);
    ck_assert_status(mtask_event_wait(&held, MTASK_FOREVER), MTASK_OK);
    run_child(initialise_again, NULL);
    ck_assert(mtask_mutex_is_locked(&held_elsewhere));
    mtask_event_set(&gate);
    ck_assert_status(mtask_thread_join(&thread, NULL, MTASK_FOREVER), MTASK_OK);
    ck_assert(!mtask_mutex_is_locked(&held_elsewhere));
}
END_TEST

static mtask_local kept;

static int look_at_kept(void *arg) {
    CHILD_CHECK(mtask_local_get(&kept) == arg);
    CHILD_CHECK(mtask_local_set(&kept, &kept) == MTASK_OK);
    CHILD_CHECK(mtask_local_get(&kept) == &kept);
    return 0;
}

START_TEST(the_forking_threads_locals_are_there_in_the_child) {
    int value = 0;
    ck_assert_status(mtask_local_init(&kept, NULL), MTASK_OK);
    ck_assert_status(mtask_local_set(&kept, &value), MTASK_OK);
    run_child(look_at_kept, &value);
    ck_assert_ptr_eq(mtask_local_get(&kept), &value);
    ck_assert_status(mtask_local_deinit(&kept), MTASK_OK);
}
END_TEST

static void *fail_across_fork(void *arg) {
    void *failure = mtask_fail(MTASK_EMPTY, "mine");
    run_child(use_after_threads, NULL);
    (void)arg;
    return failure;
}

START_TEST(a_task_that_forks_keeps_its_failure) {
    mtask_thread thread = {0};
    mtask_outcome outcome;
    ck_assert_status(mtask_thread_start(&thread, fail_across_fork, NULL), MTASK_OK);
    ck_assert_status(mtask_thread_join(&thread, &outcome, MTASK_FOREVER), MTASK_FAILED);
    ck_assert_status(outcome.status, MTASK_EMPTY);
    ck_assert_str_eq(outcome.text, "mine");
}
END_TEST

static int keep_the_promise(void *arg) {
    mtask_future *future = (mtask_future *)arg;
    mtask_outcome outcome;
    CHILD_CHECK(!mtask_future_done(future));
    CHILD_CHECK(mtask_future_set(future, &gate) == MTASK_OK);
    CHILD_CHECK(mtask_future_get(future, &outcome, MTASK_NOWAIT) == MTASK_OK);
    CHILD_CHECK(outcome.value == &gate);
    mtask_future_release(future);
    return use_after_threads(NULL);
}

START_TEST(a_future_belongs_to_each_process_by_itself) {
    mtask_future *future = NULL;
    ck_assert_status(mtask_future_create(&future, NULL), MTASK_OK);
    run_child(keep_the_promise, future);
    ck_assert(!mtask_future_done(future));
    ck_assert_status(mtask_future_cancel(future), MTASK_OK);
    mtask_future_release(future);
}
END_TEST

static mtask_thread parents_thread;

static int look_at_parents_thread(void *arg) {
    mtask_outcome outcome;
    CHILD_CHECK(!mtask_thread_is_alive(&parents_thread));
    CHILD_CHECK(mtask_thread_join(&parents_thread, &outcome, MTASK_FOREVER) == MTASK_FAILED);
    CHILD_CHECK(outcome.status == MTASK_BROKEN);
    if (CHILDREN_MAY_DO_ALL) {
        CHILD_CHECK(mtask_thread_start(&parents_thread, return_arg, arg) == MTASK_OK);
        CHILD_CHECK(mtask_thread_join(&parents_thread, &outcome, MTASK_FOREVER) == MTASK_OK);
    }
    return 0;
}

START_TEST(a_thread_of_the_parent_is_broken_in_the_child) {
    ck_assert_status(mtask_thread_start(&parents_thread, wait_at_gate, NULL), MTASK_OK);
    await_at_gate(1);
    run_child(look_at_parents_thread, NULL);
    ck_assert(mtask_thread_is_alive(&parents_thread));
    mtask_event_set(&gate);
    ck_assert_status(mtask_thread_join(&parents_thread, NULL, MTASK_FOREVER), MTASK_OK);
}
END_TEST

static int look_at_finished_thread(void *arg) {
    mtask_outcome outcome;
    CHILD_CHECK(!mtask_thread_is_alive(&parents_thread));
    CHILD_CHECK(mtask_thread_join(&parents_thread, &outcome, MTASK_FOREVER) == MTASK_OK);
    CHILD_CHECK(outcome.value == arg);
    return use_after_threads(NULL);
}

START_TEST(a_thread_that_had_ended_has_its_outcome_in_the_child) {
    ck_assert_status(mtask_thread_start(&parents_thread, return_arg, &gate), MTASK_OK);
    while (mtask_thread_is_alive(&parents_thread))
        ck_assert_status(mtask_sleep(MTASK_MS(1)), MTASK_OK);
    run_child(look_at_finished_thread, &gate);
    ck_assert_status(mtask_thread_join(&parents_thread, NULL, MTASK_FOREVER), MTASK_OK);
}
END_TEST

/* ---- a thread that forks and, in the child, returns ---- */

static mtask_word returned_in_child;

static void *outlive_the_main_thread(void *arg) {
    int line = 0;
    ck_assert_status(mtask_sleep(MTASK_MS(20)), MTASK_OK); /* the one that forked has gone */
    if (mtask_word_load(&returned_in_child) == 0 || mtask_thread_main().id == 0 ||
        mtask_thread_join_all(MTASK_SEC(5)) != MTASK_OK)
        line = __LINE__;
    if (line == 0)
        line = use_locks(arg);
    if (line != 0)
        dprintf(2, "%s:%d: failed in the child\n", __FILE__, line);
    _exit(line != 0);
}

static void *fork_and_return(void *arg) {
    mtask_thread_desc desc = {0};
    pid_t pid = fork();
    if (pid > 0) {
        await_child(pid);
        return arg;
    }
    desc.fn = outlive_the_main_thread;
    desc.daemon = true;
    if (mtask_thread_start_ex(NULL, &desc) != MTASK_OK)
        _exit(2);
    mtask_word_store(&returned_in_child, 1);
    return arg;
}

START_TEST(a_thread_that_forked_may_end_in_the_child_before_others) {
    mtask_thread thread = {0};
    if (!CHILDREN_MAY_DO_ALL)
        return;
    ck_assert_status(mtask_thread_start(&thread, fork_and_return, NULL), MTASK_OK);
    ck_assert_status(mtask_thread_join(&thread, NULL, MTASK_FOREVER), MTASK_OK);
    ck_assert_status(mtask_thread_spawn(fork_and_return, NULL), MTASK_OK);
    ck_assert_status(mtask_thread_join_all(MTASK_FOREVER), MTASK_OK);
}
END_TEST

/* ---- timers ---- */

typedef struct marked_timer {
    mtask_timer timer;
    mtask_event fired;
} marked_timer;

static int see_that_it_does_not_fire(void *arg) {
    marked_timer *marked = (marked_timer *)arg;
    int line;
    CHILD_CHECK(mtask_event_wait(&marked->fired, MTASK_MS(60)) == MTASK_TIMEOUT);
    CHILD_CHECK(mtask_thread_join_all(MTASK_FOREVER) == MTASK_OK); /* it is not pending here */
    line = CHILDREN_MAY_DO_ALL ? use_timers(NULL) : 0;
    CHILD_CHECK(!mtask_event_is_set(&marked->fired));
    return line;
}

START_TEST(the_parents_timers_fire_in_the_parent_only) {
    marked_timer marked = {0};
    ck_assert_int_eq(use_timers(NULL), 0); /* the timers' thread is there */
    ck_assert_status(mtask_timer_start(&marked.timer, MTASK_MS(40), set_event, &marked.fired),
                     MTASK_OK);
    run_child(see_that_it_does_not_fire, &marked);
    ck_assert_status(mtask_event_wait(&marked.fired, MTASK_FOREVER), MTASK_OK);
    ck_assert_status(mtask_timer_cancel(&marked.timer, MTASK_FOREVER), MTASK_DONE);
}
END_TEST

/* ---- while other threads are in the middle of something ---- */

static mtask_word stop;
static mtask_future *contested;

static void *start_and_join_all_the_time(void *arg) {
    while (mtask_word_load(&stop) == 0) {
        mtask_thread thread = {0};
        ck_assert_status(mtask_thread_start(&thread, return_arg, arg), MTASK_OK);
        (void)mtask_thread_set_name(&thread, "busy");
        (void)mtask_thread_active_count();
        ck_assert_status(mtask_thread_join(&thread, NULL, MTASK_FOREVER), MTASK_OK);
    }
    return NULL;
}

static void *use_timers_all_the_time(void *arg) {
    mtask_timer timers[3] = {0};
    while (mtask_word_load(&stop) == 0) {
        for (int i = 0; i < 3; i++)
            ck_assert_status(mtask_timer_start(&timers[i], MTASK_US(i * 40), return_arg, arg),
                             MTASK_OK);
        for (int i = 0; i < 3; i++)
            testing_check(mtask_timer_cancel(&timers[i], MTASK_FOREVER) != MTASK_TIMEOUT);
    }
    return NULL;
}

static void *use_futures_all_the_time(void *arg) {
    while (mtask_word_load(&stop) == 0) {
        mtask_future *futures[2] = {NULL, contested};
        ck_assert_status(mtask_future_create(&futures[0], NULL), MTASK_OK);
        ck_assert_status(mtask_futures_wait(futures, 2, MTASK_WAIT_ANY, MTASK_US(20)),
                         MTASK_TIMEOUT);
        ck_assert_status(mtask_future_set(futures[0], arg), MTASK_OK);
        ck_assert_status(mtask_futures_wait(futures, 2, MTASK_WAIT_ANY, MTASK_FOREVER), MTASK_OK);
        mtask_future_release(futures[0]);
    }
    return NULL;
}

START_TEST(forking_is_safe_while_other_threads_are_busy) {
    static const mtask_fn busy[] = {start_and_join_all_the_time, start_and_join_all_the_time,
                                    use_timers_all_the_time, use_futures_all_the_time};
    mtask_thread threads[4] = {0};
    ck_assert_status(mtask_future_create(&contested, NULL), MTASK_OK);
    for (int i = 0; i < 4; i++)
        ck_assert_status(mtask_thread_start(&threads[i], busy[i], NULL), MTASK_OK);
    for (long i = testing_scale(100); i > 0; i--)
        run_child(be_alone_and_use_everything, NULL);
    mtask_word_store(&stop, 1);
    for (int i = 0; i < 4; i++)
        ck_assert_status(mtask_thread_join(&threads[i], NULL, MTASK_FOREVER), MTASK_OK);
    mtask_future_release(contested);
    use_everything_here();
    ck_assert_uint_le(mtask_thread_active_count(), 2); /* main and the timers' thread */
}
END_TEST

static void *fork_all_the_time(void *arg) {
    for (long i = testing_scale(25); i > 0; i--)
        run_child(be_alone_and_use_everything, arg);
    return NULL;
}

START_TEST(several_threads_fork_at_the_same_time) {
    mtask_thread threads[3] = {0};
    for (int i = 0; i < 3; i++)
        ck_assert_status(mtask_thread_start(&threads[i], fork_all_the_time, NULL), MTASK_OK);
    for (int i = 0; i < 3; i++)
        ck_assert_status(mtask_thread_join(&threads[i], NULL, MTASK_FOREVER), MTASK_OK);
    use_everything_here();
}
END_TEST

static void *exec_true(void *arg) {
    for (long i = testing_scale(30); i > 0; i--) {
        int status = 0;
        pid_t pid = fork();
        if (pid == 0) {
            execl("/bin/true", "true", (char *)NULL);
            _exit(1);
        }
        testing_check(pid > 0 && waitpid(pid, &status, 0) == pid && status == 0);
    }
    return arg;
}

START_TEST(fork_and_exec_from_many_threads_harms_nobody) {
    mtask_thread threads[3] = {0};
    for (int i = 0; i < 3; i++)
        ck_assert_status(mtask_thread_start(&threads[i], exec_true, NULL), MTASK_OK);
    for (int i = 0; i < 3; i++)
        ck_assert_status(mtask_thread_join(&threads[i], NULL, MTASK_FOREVER), MTASK_OK);
    ck_assert_uint_eq(mtask_thread_active_count(), 1);
}
END_TEST

TESTING_MAIN("fork", a_child_of_a_fresh_process_can_use_everything,
             a_child_has_one_thread_and_can_use_everything, a_child_of_a_child_can_use_everything,
             the_forking_thread_is_main_in_the_child,
             a_started_thread_that_forks_is_main_in_the_child,
             a_daemon_or_spawned_thread_that_forks_is_main_in_the_child,
             a_foreign_thread_that_forks_is_main_in_the_child, a_thread_unknown_to_mtask_can_fork,
             a_timer_function_can_fork, no_two_processes_use_the_same_id,
             a_mutex_that_the_forking_thread_holds_is_held_in_the_child,
             a_recursive_mutex_that_the_forking_thread_holds_is_its_own_in_the_child,
             a_mutex_that_another_thread_held_can_be_initialised_again,
             the_forking_threads_locals_are_there_in_the_child, a_task_that_forks_keeps_its_failure,
             a_future_belongs_to_each_process_by_itself,
             a_thread_of_the_parent_is_broken_in_the_child,
             a_thread_that_had_ended_has_its_outcome_in_the_child,
             a_thread_that_forked_may_end_in_the_child_before_others,
             the_parents_timers_fire_in_the_parent_only,
             forking_is_safe_while_other_threads_are_busy, several_threads_fork_at_the_same_time,
             fork_and_exec_from_many_threads_harms_nobody)
