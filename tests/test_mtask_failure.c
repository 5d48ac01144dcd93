/* test_mtask_failure.c - what the system refuses comes back as a status, and nothing is left behind
// standalone: it holds the implementation itself, with the calls of the system that may fail
   replaced by ones that fail when they are told to. */
#define _GNU_SOURCE 1
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <linux/futex.h>

/* ---- where failures can be injected ---- */

typedef enum point {
    AT_MALLOC,
    AT_THREAD,      /* pthread_create */
    AT_ATTR_INIT,   /* pthread_attr_init */
    AT_ATTR_SET,    /* pthread_attr_set... */
    AT_KEY,         /* pthread_key_create */
    AT_SETSPECIFIC, /* pthread_setspecific */
    AT_WAIT,        /* a futex wait; without futex, what a wait needs of pthread */
    AT_CLOCK,       /* clock_gettime */
    AT_AFFINITY,    /* sched_getaffinity */
    POINTS
} point;

#include "testing_inject.h"

static long live_blocks; /* of memory */
static long live_attrs;  /* pthread_attr_t that are initialised */
static long live_keys;
static long thread_starts; /* tried so far */

/* ---- the replaced calls ---- */

static void *fake_malloc(size_t size) {
    void *memory = fails_at(AT_MALLOC) ? NULL : malloc(size);
    if (memory != NULL)
        add(&live_blocks, 1);
    return memory;
}

static void fake_free(void *memory) {
    if (memory != NULL)
        add(&live_blocks, -1);
    free(memory);
}

static void (*before_failing)(void); /* called by a pthread_create that is about to fail */
static bool hold_starts;             /* new threads wait until they are let go */

typedef struct held_start {
    void *(*fn)(void *arg);
    void *arg;
} held_start;

static void *start_held(void *arg) {
    held_start start = *(held_start *)arg;
    free(arg);
    while (__atomic_load_n(&hold_starts, __ATOMIC_SEQ_CST))
        sched_yield();
    return start.fn(start.arg);
}

static int fake_pthread_create(pthread_t *thread, const pthread_attr_t *attr,
                               void *(*fn)(void *arg), void *arg) {
    held_start *start;
    int error;
    add(&thread_starts, 1);
    if (fails_at(AT_THREAD)) {
        if (before_failing != NULL)
            before_failing();
        return injections[AT_THREAD].error;
    }
    start = (held_start *)malloc(sizeof *start);
    start->fn = fn;
    start->arg = arg;
    error = pthread_create(thread, attr, start_held, start);
    if (error != 0)
        free(start);
    return error;
}

static int fake_attr_init(pthread_attr_t *attr) {
    if (fails_at(AT_ATTR_INIT))
        return injections[AT_ATTR_INIT].error;
    add(&live_attrs, 1);
    return pthread_attr_init(attr);
}

static int fake_attr_destroy(pthread_attr_t *attr) {
    add(&live_attrs, -1);
    return pthread_attr_destroy(attr);
}

static int fake_setstacksize(pthread_attr_t *attr, size_t size) {
    return fails_at(AT_ATTR_SET) ? injections[AT_ATTR_SET].error
                                 : pthread_attr_setstacksize(attr, size);
}

static int fake_setdetachstate(pthread_attr_t *attr, int state) {
    return fails_at(AT_ATTR_SET) ? injections[AT_ATTR_SET].error
                                 : pthread_attr_setdetachstate(attr, state);
}

static int fake_setaffinity(pthread_attr_t *attr, size_t size, const cpu_set_t *cpus) {
    return fails_at(AT_ATTR_SET) ? injections[AT_ATTR_SET].error
                                 : pthread_attr_setaffinity_np(attr, size, cpus);
}

static int fake_key_create(pthread_key_t *key, void (*destructor)(void *value)) {
    if (fails_at(AT_KEY))
        return injections[AT_KEY].error;
    add(&live_keys, 1);
    return pthread_key_create(key, destructor);
}

static int fake_key_delete(pthread_key_t key) {
    add(&live_keys, -1);
    return pthread_key_delete(key);
}

static int fake_setspecific(pthread_key_t key, const void *value) {
    return fails_at(AT_SETSPECIFIC) ? injections[AT_SETSPECIFIC].error
                                    : pthread_setspecific(key, value);
}

static int fake_clock_gettime(clockid_t clock, struct timespec *time) {
    if (fails_at(AT_CLOCK)) {
        errno = injections[AT_CLOCK].error;
        return -1;
    }
    return clock_gettime(clock, time);
}

#ifdef MTASK_FORCE_POSIX
static int fake_cond_init(pthread_cond_t *cond, const pthread_condattr_t *attr) {
    return fails_at(AT_WAIT) ? injections[AT_WAIT].error : pthread_cond_init(cond, attr);
}
#endif

/* Whether a system call is one that waits. */
static bool is_wait(long number, long operation) {
    bool futex = number == SYS_futex;
#ifdef SYS_futex_time64
    futex = futex || number == SYS_futex_time64;
#endif
    operation &= FUTEX_CMD_MASK;
    return futex && (operation == FUTEX_WAIT || operation == FUTEX_WAIT_BITSET);
}

static long fake_syscall(long number, ...) {
    long a[6];
    va_list args;
    va_start(args, number);
    for (int i = 0; i < 6; i++)
        a[i] = va_arg(args, long);
    va_end(args);
    if (is_wait(number, a[1]) && fails_at(AT_WAIT)) {
        errno = injections[AT_WAIT].error;
        return -1;
    }
    if (number == SYS_sched_getaffinity && fails_at(AT_AFFINITY)) {
        errno = injections[AT_AFFINITY].error;
        return -1;
    }
    return syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

/* ---- the implementation, on top of them ---- */

#define MTASK_MALLOC(size)          fake_malloc(size)
#define MTASK_REALLOC(p, size)      realloc((p), (size)) /* not used by mtask.h */
#define MTASK_FREE(p)               fake_free(p)
#define pthread_create              fake_pthread_create
#define pthread_attr_init           fake_attr_init
#define pthread_attr_destroy        fake_attr_destroy
#define pthread_attr_setstacksize   fake_setstacksize
#define pthread_attr_setdetachstate fake_setdetachstate
#define pthread_attr_setaffinity_np fake_setaffinity
#define pthread_key_create          fake_key_create
#define pthread_key_delete          fake_key_delete
#define pthread_setspecific         fake_setspecific
#define clock_gettime               fake_clock_gettime
#define syscall                     fake_syscall
#ifdef MTASK_FORCE_POSIX
# define pthread_cond_init fake_cond_init
#endif
#define MTASK_IMPLEMENTATION
#include "../mtask.h"
#undef pthread_create
#undef pthread_attr_init
#undef pthread_attr_destroy
#undef pthread_attr_setstacksize
#undef pthread_attr_setdetachstate
#undef pthread_attr_setaffinity_np
#undef pthread_key_create
#undef pthread_key_delete
#undef pthread_setspecific
#undef clock_gettime
#undef syscall
#undef pthread_cond_init

#include "testing.h"

/* ---- helpers ---- */

static void *return_arg(void *arg) {
    return arg;
}

/* Waits until a counter has come back to `value`: threads that end by themselves free their blocks
   last of all. */
static void await_count(const long *counter, long value) {
    for (int i = 0; i < 2000 && look(counter) != value; i++)
        ck_assert_status(mtask_sleep(MTASK_MS(1)), MTASK_OK);
    ck_assert_int_eq(look(counter), value);
}

typedef mtask_status (*scenario)(void);

/* Runs a scenario with the first, the second, ... call at `at` failing, until none is left to fail.
   A failure must come back as `expected` (with `error` in errno, if that is MTASK_SYSTEM) and leave
   nothing behind; after it the scenario must succeed. At least `least` calls can fail. */
static void fail_each(point at, int error, scenario run, mtask_status expected, long least) {
    long first = 1;
    ck_assert_status(run(), MTASK_OK);
    ck_assert_status(mtask_thread_join_all(MTASK_FOREVER), MTASK_OK);
    for (;; first++) {
        mtask_status status;
        int seen;
        arm(at, first, 1, error);
        errno = 0;
        status = run();
        seen = errno;
        if (disarm(at) == 0) {
            ck_assert_status(status, MTASK_OK);
            break;
        }
        ck_assert_status(status, expected);
        if (expected == MTASK_SYSTEM)
            ck_assert_int_eq(seen, error);
        ck_assert_status(mtask_thread_join_all(MTASK_FOREVER), MTASK_OK);
        await_count(&live_blocks, 0);
        ck_assert_int_eq(look(&live_attrs), 0);
        ck_assert_uint_eq(mtask_thread_active_count(), 1);
        ck_assert_status(run(), MTASK_OK);
        ck_assert_int_lt(first, 1000);
    }
    ck_assert_int_gt(first, least);
}

/* ---- threads ---- */

static mtask_status start_and_join(void) {
    mtask_thread thread = {0};
    mtask_outcome outcome;
    mtask_status status = mtask_thread_start(&thread, return_arg, &thread);
    if (status != MTASK_OK) {
        int saved = errno;
        ck_assert(!mtask_thread_is_alive(&thread));
        ck_assert_uint_eq(mtask_thread_id(&thread), 0);
        ck_assert_status(mtask_thread_join(&thread, NULL, MTASK_NOWAIT), MTASK_INVALID);
        ck_assert_status(mtask_thread_join_all(MTASK_NOWAIT), MTASK_OK); /* it does not count */
        errno = saved;
        return status;
    }
    ck_assert_status(mtask_thread_join(&thread, &outcome, MTASK_FOREVER), MTASK_OK);
    ck_assert_ptr_eq(outcome.value, &thread);
    return MTASK_OK;
}

/* With everything that a description can say. */
static mtask_status start_as_described(void) {
    mtask_thread thread = {0};
    mtask_thread_desc desc = {0};
    mtask_future *future = NULL;
    unsigned cpu = (unsigned)sched_getcpu();
    mtask_status status;
    desc.fn = return_arg;
    desc.arg = &thread;
    desc.name = "described";
    desc.stack_size = 1 << 20;
    desc.cpus = &cpu;
    desc.cpu_count = 1;
    desc.future = &future;
    status = mtask_thread_start_ex(&thread, &desc);
    if (status != MTASK_OK) {
        ck_assert_ptr_null(future);
        return status;
    }
    ck_assert_status(mtask_thread_join(&thread, NULL, MTASK_FOREVER), MTASK_OK);
    ck_assert_status(mtask_future_get(future, NULL, MTASK_NOWAIT), MTASK_OK);
    mtask_future_release(future);
    return MTASK_OK;
}

static mtask_status spawn_daemon(void) {
    mtask_thread_desc desc = {0};
    desc.fn = return_arg;
    desc.daemon = true;
    desc.stack_size = 1;
    return mtask_thread_start_ex(NULL, &desc);
}

static mtask_status spawn_one(void) {
    return mtask_thread_spawn(return_arg, NULL);
}

START_TEST(a_thread_that_cannot_be_started_for_lack_of_memory_leaves_nothing) {
    fail_each(AT_MALLOC, 0, start_and_join, MTASK_NOMEM, 1);
    fail_each(AT_MALLOC, 0, start_as_described, MTASK_NOMEM, 1);
    fail_each(AT_MALLOC, 0, spawn_one, MTASK_NOMEM, 1);
    fail_each(AT_ATTR_INIT, ENOMEM, start_and_join, MTASK_NOMEM, 1);
    fail_each(AT_THREAD, ENOMEM, start_and_join, MTASK_NOMEM, 1);
}
END_TEST

START_TEST(a_thread_that_the_system_refuses_leaves_nothing) {
    fail_each(AT_THREAD, EAGAIN, start_and_join, MTASK_SYSTEM, 1);
    fail_each(AT_THREAD, EAGAIN, start_as_described, MTASK_SYSTEM, 1);
    fail_each(AT_THREAD, EAGAIN, spawn_one, MTASK_SYSTEM, 1);
    fail_each(AT_THREAD, EPERM, spawn_one, MTASK_SYSTEM, 1);
    fail_each(AT_ATTR_SET, EINVAL, start_as_described, MTASK_SYSTEM, 2);
    fail_each(AT_ATTR_SET, EINVAL, spawn_one, MTASK_SYSTEM, 1);
}
END_TEST

START_TEST(a_daemon_that_cannot_be_started_leaves_nothing) {
    ck_assert_status(start_and_join(), MTASK_OK);
    for (int i = 1; i <= 2; i++) {
        long blocks = look(&live_blocks);
        arm(AT_ATTR_SET, i, 1, EINVAL); /* detached, stack size */
        ck_assert_status(spawn_daemon(), MTASK_SYSTEM);
        ck_assert_int_eq(disarm(AT_ATTR_SET), 1);
        ck_assert_int_eq(look(&live_blocks), blocks);
        ck_assert_int_eq(look(&live_attrs), 0);
        ck_assert_uint_eq(mtask_thread_active_count(), 1);
    }
}
END_TEST

START_TEST(a_handle_can_be_used_after_a_failed_start) {
    mtask_thread thread = {0};
    arm(AT_THREAD, 1, 1, EAGAIN);
    ck_assert_status(mtask_thread_start(&thread, return_arg, NULL), MTASK_SYSTEM);
    ck_assert_int_eq(disarm(AT_THREAD), 1);
    ck_assert_status(mtask_thread_start(&thread, return_arg, &thread), MTASK_OK);
    ck_assert_status(mtask_thread_join(&thread, NULL, MTASK_FOREVER), MTASK_OK);
}
END_TEST

/* Fills `attached` with the thread that is about to fail to start, if it is to be seen. */
static mtask_thread attached;
static mtask_status attach_status = MTASK_NOT_FOUND;

static void attach_to_all(void) {
    mtask_thread_info infos[8];
    size_t found = 0;
    if (mtask_thread_enumerate(infos, 8, &found) != MTASK_OK)
        return;
    for (size_t i = 0; i < found; i++)
        if (!infos[i].main && !infos[i].foreign)
            attach_status = mtask_thread_attach(&attached, infos[i].id);
}

START_TEST(a_thread_that_fails_to_start_does_no_harm_to_who_attached_to_it) {
    mtask_thread thread = {0};
    before_failing = attach_to_all;
    arm(AT_THREAD, 1, 1, EAGAIN);
    ck_assert_status(mtask_thread_start(&thread, return_arg, NULL), MTASK_SYSTEM);
    ck_assert_int_eq(disarm(AT_THREAD), 1);
    if (attach_status == MTASK_OK) { /* then the handle must work, and a join must end */
        ck_assert(!mtask_thread_is_alive(&attached));
        attach_status = mtask_thread_join(&attached, NULL, MTASK_SEC(5));
        ck_assert(attach_status == MTASK_FAILED || attach_status == MTASK_CANCELED);
    }
    await_count(&live_blocks, 0);
}
END_TEST

static void *fail_with_text(void *arg) {
    arm(AT_MALLOC, 1, LONG_MAX, 0);
    (void)arg;
    return mtask_fail(MTASK_NOT_FOUND, "no %s", "memory");
}

START_TEST(a_failure_keeps_its_status_without_memory) {
    mtask_thread thread = {0};
    mtask_outcome outcome;
    ck_assert_status(mtask_thread_start(&thread, fail_with_text, NULL), MTASK_OK);
    ck_assert_status(mtask_thread_join(&thread, &outcome, MTASK_FOREVER), MTASK_FAILED);
    ck_assert_status(outcome.status, MTASK_NOT_FOUND);
    if (disarm(AT_MALLOC) == 0) /* otherwise only the text is lost */
        ck_assert_str_eq(outcome.text, "no memory");
    else
        ck_assert_str_eq(outcome.text, "");
    await_count(&live_blocks, 0);
}
END_TEST

START_TEST(join_waits_for_a_cancelled_thread_that_has_not_arrived_yet) {
    mtask_thread thread = {0};
    mtask_thread_desc desc = {0};
    mtask_future *future = NULL;
    mtask_status status;
    desc.fn = return_arg;
    desc.future = &future;
    __atomic_store_n(&hold_starts, true, __ATOMIC_SEQ_CST);
    ck_assert_status(mtask_thread_start_ex(&thread, &desc), MTASK_OK);
    ck_assert_status(mtask_future_cancel(future), MTASK_OK);
    status = mtask_thread_join(&thread, NULL, MTASK_MS(3));
    ck_assert(status == MTASK_TIMEOUT || status == MTASK_CANCELED);
    __atomic_store_n(&hold_starts, false, __ATOMIC_SEQ_CST);
    ck_assert_status(mtask_thread_join(&thread, NULL, MTASK_FOREVER), MTASK_CANCELED);
    mtask_future_release(future);
    await_count(&live_blocks, 0);
    ck_assert_uint_eq(mtask_thread_active_count(), 1);
}
END_TEST

START_TEST(a_thread_may_be_renamed_before_it_has_arrived) {
    mtask_thread thread = {0};
    __atomic_store_n(&hold_starts, true, __ATOMIC_SEQ_CST);
    ck_assert_status(mtask_thread_start(&thread, return_arg, NULL), MTASK_OK);
    ck_assert_status(mtask_thread_set_name(&thread, "early"), MTASK_OK);
    ck_assert(mtask_thread_is_alive(&thread));
    ck_assert_str_eq(mtask_thread_name(&thread), "early");
    __atomic_store_n(&hold_starts, false, __ATOMIC_SEQ_CST);
    ck_assert_status(mtask_thread_join(&thread, NULL, MTASK_FOREVER), MTASK_OK);
    ck_assert_str_eq(mtask_thread_name(&thread), "early");
}
END_TEST

/* ---- per-thread values ---- */

START_TEST(a_local_without_a_key_is_not_initialised) {
    static const int errors[] = {EAGAIN, ENOMEM};
    ck_assert_status(start_and_join(), MTASK_OK); /* mtask has its own key */
    for (int i = 0; i < 2; i++) {
        mtask_local local = {0};
        long keys = look(&live_keys);
        arm(AT_KEY, 1, 1, errors[i]);
        ck_assert_status(mtask_local_init(&local, NULL), i == 0 ? MTASK_SYSTEM : MTASK_NOMEM);
        if (i == 0)
            ck_assert_int_eq(errno, EAGAIN);
        ck_assert_int_eq(disarm(AT_KEY), 1);
        ck_assert_status(mtask_local_set(&local, &local), MTASK_INVALID);
        ck_assert_status(mtask_local_deinit(&local), MTASK_INVALID);
        ck_assert_status(mtask_local_init(&local, NULL), MTASK_OK);
        ck_assert_status(mtask_local_deinit(&local), MTASK_OK);
        ck_assert_int_eq(look(&live_keys), keys);
    }
}
END_TEST

START_TEST(a_value_that_cannot_be_set_leaves_the_old_one) {
    mtask_local local = {0};
    ck_assert_status(mtask_local_init(&local, NULL), MTASK_OK);
    ck_assert_status(mtask_local_set(&local, &local), MTASK_OK);
    arm(AT_SETSPECIFIC, 1, 1, ENOMEM);
    ck_assert_status(mtask_local_set(&local, &injections), MTASK_NOMEM);
    ck_assert_int_eq(disarm(AT_SETSPECIFIC), 1);
    ck_assert_ptr_eq(mtask_local_get(&local), &local);
    ck_assert_status(mtask_local_deinit(&local), MTASK_OK);
}
END_TEST

/* What a thread that mtask did not start sees of itself. */
static void *ask_from_abroad(void *arg) {
    mtask_thread_info info = mtask_thread_current();
    testing_check(info.id != 0 && info.alive && info.foreign && !info.main);
    testing_check(mtask_task_id() == info.id);
    ck_assert_status(start_and_join(), MTASK_OK);
    return arg;
}

static void ask_in_a_foreign_thread(void) {
    pthread_t thread;
    ck_assert_int_eq(pthread_create(&thread, NULL, ask_from_abroad, NULL), 0);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
}

START_TEST(threads_work_without_a_key_of_mtasks_own) {
    arm(AT_KEY, 1, LONG_MAX, EAGAIN);
    ck_assert_uint_eq(mtask_thread_active_count(), 1); /* mtask initialises itself here */
    ck_assert_int_ge(look(&injections[AT_KEY].hits), 1);
    for (int i = 0; i < 3; i++) {
        ck_assert_status(start_and_join(), MTASK_OK);
        ck_assert_status(spawn_one(), MTASK_OK);
        ask_in_a_foreign_thread();
        ck_assert_status(mtask_thread_join_all(MTASK_FOREVER), MTASK_OK);
        ck_assert_uint_eq(mtask_thread_active_count(), 1);
    }
    disarm(AT_KEY);
    await_count(&live_blocks, 0);
}
END_TEST

START_TEST(threads_work_without_values_of_their_own) {
    ck_assert_status(start_and_join(), MTASK_OK);
    arm(AT_SETSPECIFIC, 1, LONG_MAX, ENOMEM);
    for (int i = 0; i < 3; i++) {
        ck_assert_status(start_and_join(), MTASK_OK);
        ck_assert_status(spawn_one(), MTASK_OK);
        ask_in_a_foreign_thread();
        ck_assert_status(mtask_thread_join_all(MTASK_FOREVER), MTASK_OK);
        ck_assert_uint_eq(mtask_thread_active_count(), 1);
    }
    ck_assert_int_ge(disarm(AT_SETSPECIFIC), 9);
    await_count(&live_blocks, 0);
    ask_in_a_foreign_thread();
    ck_assert_uint_eq(mtask_thread_active_count(), 1);
}
END_TEST

/* ---- futures ---- */

enum { MANY = 20 }; /* more than mtask_futures_wait has room for without memory */

static void note_call(mtask_future *future, void *ctx) {
    testing_check(mtask_future_done(future));
    ++*(int *)ctx;
}

/* Makes futures, adds callbacks, waits for all of them; tells the first failure, and cleans up. */
static mtask_status use_futures(void) {
    mtask_future *futures[MANY];
    mtask_status status = MTASK_OK, waited;
    int made = 0, added = 0, called = 0;
    for (; made < MANY && status == MTASK_OK; made += status == MTASK_OK)
        status = mtask_future_create(&futures[made], NULL);
    for (; added < made && status == MTASK_OK; added += status == MTASK_OK)
        status = mtask_future_then(futures[added], note_call, &called);
    if (status == MTASK_OK) {
        waited = mtask_futures_wait(futures, MANY, MTASK_WAIT_ANY, MTASK_NOWAIT);
        status = waited == MTASK_TIMEOUT ? MTASK_OK : waited;
    }
    for (int i = 0; i < made; i++)
        ck_assert_status(mtask_future_set(futures[i], &called), MTASK_OK);
    ck_assert_int_eq(called, added);
    if (status == MTASK_OK)
        status = mtask_futures_wait(futures, MANY, MTASK_WAIT_ALL, MTASK_FOREVER);
    while (made > 0)
        mtask_future_release(futures[--made]);
    return status;
}

START_TEST(futures_without_memory_tell_so_and_leave_nothing) {
    fail_each(AT_MALLOC, 0, use_futures, MTASK_NOMEM, 2 * MANY + 2);
}
END_TEST

START_TEST(few_futures_are_waited_for_without_memory) {
    mtask_future *futures[16];
    for (int i = 0; i < 16; i++)
        ck_assert_status(mtask_future_create(&futures[i], NULL), MTASK_OK);
    arm(AT_MALLOC, 1, LONG_MAX, 0);
    ck_assert_status(mtask_futures_wait(futures, 16, MTASK_WAIT_ALL, MTASK_US(10)), MTASK_TIMEOUT);
    for (int i = 0; i < 16; i++)
        ck_assert_status(mtask_future_set(futures[i], NULL), MTASK_OK);
    ck_assert_status(mtask_futures_wait(futures, 16, MTASK_WAIT_ALL, MTASK_FOREVER), MTASK_OK);
    disarm(AT_MALLOC);
    for (int i = 0; i < 16; i++)
        mtask_future_release(futures[i]);
    ck_assert_int_eq(look(&live_blocks), 0);
}
END_TEST

START_TEST(create_without_memory_gives_no_future) {
    mtask_future *future = (mtask_future *)(void *)&injections;
    arm(AT_MALLOC, 1, 1, 0);
    ck_assert_status(mtask_future_create(&future, NULL), MTASK_NOMEM);
    ck_assert_int_eq(disarm(AT_MALLOC), 1);
    mtask_future_release(future); /* NULL: allowed */
    ck_assert_int_eq(look(&live_blocks), 0);
}
END_TEST

START_TEST(a_future_fails_without_memory) {
    mtask_future *future = NULL;
    mtask_outcome outcome;
    ck_assert_status(mtask_future_create(&future, NULL), MTASK_OK);
    arm(AT_MALLOC, 1, LONG_MAX, 0);
    ck_assert_status(mtask_future_fail(future, MTASK_AUTH, "why: %d", 7), MTASK_OK);
    ck_assert_status(mtask_future_get(future, &outcome, MTASK_NOWAIT), MTASK_FAILED);
    ck_assert_status(outcome.status, MTASK_AUTH);
    ck_assert_str_eq(outcome.text, disarm(AT_MALLOC) == 0 ? "why: 7" : "");
    mtask_future_release(future);
    ck_assert_int_eq(look(&live_blocks), 0);
}
END_TEST

/* ---- timers ---- */

static mtask_event timer_fired;

static void *set_fired(void *arg) {
    mtask_event_set(&timer_fired);
    return arg;
}

/* A first timer whose thread cannot be started, for `error` at `at`; then one that can. */
static void fail_first_timer(point at, int error, mtask_status expected) {
    static mtask_timer timer;
    long threads;
    arm(at, 1, 1, error);
    ck_assert_status(mtask_timer_start(&timer, 0, set_fired, NULL), expected);
    if (expected == MTASK_SYSTEM)
        ck_assert_int_eq(errno, error);
    ck_assert_int_eq(disarm(at), 1);
    ck_assert(!mtask_timer_is_pending(&timer));
    ck_assert_status(mtask_timer_cancel(&timer, MTASK_FOREVER), MTASK_DONE);
    ck_assert_status(mtask_thread_join_all(MTASK_FOREVER), MTASK_OK); /* it does not count */
    ck_assert_uint_eq(mtask_thread_active_count(), 1);
    ck_assert_int_eq(look(&live_blocks), 0);
    ck_assert_int_eq(look(&live_attrs), 0);
    threads = look(&thread_starts);
    ck_assert_status(mtask_timer_start(&timer, 0, set_fired, NULL), MTASK_OK);
    ck_assert_status(mtask_thread_join_all(MTASK_FOREVER), MTASK_OK);
    ck_assert(mtask_event_is_set(&timer_fired));
    ck_assert_int_eq(look(&thread_starts), threads + 1);
}

START_TEST(a_timer_without_memory_for_its_thread_is_not_started) {
    fail_first_timer(AT_MALLOC, 0, MTASK_NOMEM);
}
END_TEST

START_TEST(a_timer_without_a_thread_is_not_started) {
    fail_first_timer(AT_THREAD, EAGAIN, MTASK_SYSTEM);
}
END_TEST

START_TEST(a_timer_without_thread_attributes_is_not_started) {
    fail_first_timer(AT_ATTR_INIT, ENOMEM, MTASK_NOMEM);
}
END_TEST

START_TEST(later_timers_need_no_memory) {
    static mtask_timer timers[2];
    ck_assert_status(mtask_timer_start(&timers[0], 0, set_fired, NULL), MTASK_OK);
    ck_assert_status(mtask_thread_join_all(MTASK_FOREVER), MTASK_OK);
    arm(AT_MALLOC, 1, LONG_MAX, 0);
    ck_assert_status(mtask_timer_start(&timers[1], MTASK_US(10), set_fired, NULL), MTASK_OK);
    ck_assert_status(mtask_thread_join_all(MTASK_FOREVER), MTASK_OK);
    ck_assert_int_eq(disarm(AT_MALLOC), 0);
}
END_TEST

START_TEST(a_timer_fires_though_its_thread_cannot_sleep_for_a_while) {
    static mtask_timer timer;
    int64_t before = mtask_now();
    arm(AT_WAIT, 1, 20, EINVAL);
    ck_assert_status(mtask_timer_start(&timer, MTASK_MS(5), set_fired, NULL), MTASK_OK);
    while (!mtask_event_is_set(&timer_fired))
        sched_yield();
    ck_assert_int_ge(mtask_now() - before, MTASK_MS(5));
    ck_assert_int_ge(disarm(AT_WAIT), 1);
}
END_TEST

/* ---- everything that waits, when waiting is refused ---- */

/* One thing to wait for: `wait` would block, until `wake` has been called; then it succeeds. */
typedef struct waiting {
    mtask_status (*wait)(int64_t timeout);
    void (*wake)(void);
} waiting;

static mtask_mutex mutex;
static mtask_rmutex rmutex;
static mtask_sem sem;
static mtask_event event;
static mtask_rwlock rwlock;
static mtask_waitgroup group;
static mtask_future *future_of_all;
static mtask_word word;
static mtask_thread waiting_thread;
static mtask_timer waiting_timer;
static mtask_event gate, rmutex_held, timer_began;

static mtask_status wait_mutex(int64_t timeout) {
    mtask_status status = mtask_mutex_lock_for(&mutex, timeout);
    if (status == MTASK_OK)
        ck_assert_status(mtask_mutex_unlock(&mutex), MTASK_OK);
    return status;
}

static void wake_mutex(void) {
    ck_assert_status(mtask_mutex_unlock(&mutex), MTASK_OK);
    ck_assert(!mtask_mutex_is_locked(&mutex));
}

static mtask_status wait_rmutex(int64_t timeout) {
    mtask_status status = mtask_rmutex_lock_for(&rmutex, timeout);
    ck_assert_uint_eq(mtask_rmutex_count(&rmutex), status == MTASK_OK);
    if (status == MTASK_OK)
        ck_assert_status(mtask_rmutex_unlock(&rmutex), MTASK_OK);
    return status;
}

static void *hold_rmutex(void *arg) {
    ck_assert_status(mtask_rmutex_lock(&rmutex), MTASK_OK);
    mtask_event_set(&rmutex_held);
    while (!mtask_event_is_set(&gate))
        sched_yield();
    ck_assert_status(mtask_rmutex_unlock(&rmutex), MTASK_OK);
    return arg;
}

static void wake_by_gate(void) {
    mtask_event_set(&gate);
    ck_assert_status(mtask_thread_join(&waiting_thread, NULL, MTASK_FOREVER), MTASK_OK);
}

static mtask_status wait_sem(int64_t timeout) {
    return mtask_sem_acquire(&sem, timeout);
}

static void wake_sem(void) {
    ck_assert_uint_eq(mtask_sem_value(&sem), 0);
    ck_assert_status(mtask_sem_release(&sem, 1), MTASK_OK);
}

static mtask_status wait_event(int64_t timeout) {
    return mtask_event_wait(&event, timeout);
}

static void wake_event(void) {
    mtask_event_set(&event);
}

static mtask_status wait_read(int64_t timeout) {
    mtask_status status = mtask_rwlock_lock_read_for(&rwlock, timeout);
    if (status == MTASK_OK)
        ck_assert_status(mtask_rwlock_unlock_read(&rwlock), MTASK_OK);
    return status;
}

static mtask_status wait_write(int64_t timeout) {
    mtask_status status = mtask_rwlock_lock_write_for(&rwlock, timeout);
    if (status == MTASK_OK)
        ck_assert_status(mtask_rwlock_unlock_write(&rwlock), MTASK_OK);
    return status;
}

static void wake_rwlock(void) {
    ck_assert_status(mtask_rwlock_unlock_write(&rwlock), MTASK_OK);
}

static mtask_status wait_group(int64_t timeout) {
    return mtask_waitgroup_wait(&group, timeout);
}

static void wake_group(void) {
    ck_assert_status(mtask_waitgroup_done(&group), MTASK_OK);
}

static mtask_status wait_future(int64_t timeout) {
    return mtask_future_wait(future_of_all, timeout);
}

static mtask_status get_future(int64_t timeout) {
    return mtask_future_get(future_of_all, NULL, timeout);
}

static mtask_status wait_futures(int64_t timeout) {
    return mtask_futures_wait(&future_of_all, 1, MTASK_WAIT_ALL, timeout);
}

static void wake_future(void) {
    ck_assert_status(mtask_future_set(future_of_all, NULL), MTASK_OK);
}

static mtask_status wait_word(int64_t timeout) {
    return mtask_word_wait(&word, 0, timeout, MTASK_PRIVATE);
}

static void wake_word(void) {
    mtask_word_store(&word, 1);
    ck_assert_int_eq(mtask_word_wake(&word, INT_MAX, MTASK_PRIVATE), 0);
}

static void *spin_at_gate(void *arg) {
    mtask_event_set(&timer_began);
    while (!mtask_event_is_set(&gate))
        sched_yield();
    return arg;
}

static mtask_status wait_join(int64_t timeout) {
    return mtask_thread_join(&waiting_thread, NULL, timeout);
}

static mtask_status wait_join_all(int64_t timeout) {
    return mtask_thread_join_all(timeout);
}

static mtask_status wait_timer(int64_t timeout) {
    mtask_status status = mtask_timer_cancel(&waiting_timer, timeout);
    return status == MTASK_DONE ? MTASK_OK : status;
}

static void wake_timer(void) {
    mtask_event_set(&gate);
}

static const waiting waitings[] = {
    {wait_mutex, wake_mutex},      {wait_rmutex, wake_by_gate}, {wait_sem, wake_sem},
    {wait_event, wake_event},      {wait_read, wake_rwlock},    {wait_write, wake_rwlock},
    {wait_group, wake_group},      {wait_future, wake_future},  {get_future, wake_future},
    {wait_futures, wake_future},   {wait_word, wake_word},      {wait_join, wake_by_gate},
    {wait_join_all, wake_by_gate}, {wait_timer, wake_timer},
};
enum { WAITINGS = sizeof waitings / sizeof waitings[0] };

/* Makes everything so that waiting for it would block. */
static void make_all_block(void) {
    ck_assert_status(mtask_mutex_lock(&mutex), MTASK_OK);
    ck_assert_status(mtask_rwlock_lock_write(&rwlock), MTASK_OK);
    ck_assert_status(mtask_waitgroup_add(&group, 1), MTASK_OK);
    ck_assert_status(mtask_future_create(&future_of_all, NULL), MTASK_OK);
}

/* What waitings[i] needs besides. */
static void make_it_block(int i) {
    mtask_status (*wait)(int64_t) = waitings[i].wait;
    make_all_block();
    if (wait == wait_timer) {
        ck_assert_status(mtask_timer_start(&waiting_timer, 0, spin_at_gate, NULL), MTASK_OK);
        while (!mtask_event_is_set(&timer_began))
            sched_yield();
    } else if (waitings[i].wake == wake_by_gate) {
        ck_assert_status(mtask_thread_start(&waiting_thread,
                                            wait == wait_rmutex ? hold_rmutex : spin_at_gate, NULL),
                         MTASK_OK);
        while (wait == wait_rmutex && !mtask_event_is_set(&rmutex_held))
            sched_yield();
    }
}

/* The refused wait tells so; afterwards everything is as if it had never been tried. */
static void check_refused(int i, point at, int error, int64_t timeout) {
    make_it_block(i);
    arm(at, 1, LONG_MAX, error);
    errno = 0;
    ck_assert_status(waitings[i].wait(timeout), MTASK_SYSTEM);
    ck_assert_int_eq(errno, error);
    ck_assert_int_ge(disarm(at), 1);
    ck_assert_status(waitings[i].wait(MTASK_NOWAIT), MTASK_TIMEOUT);
    ck_assert_status(waitings[i].wait(MTASK_US(50)), MTASK_TIMEOUT);
    waitings[i].wake();
    ck_assert_status(waitings[i].wait(MTASK_FOREVER), MTASK_OK);
    mtask_future_release(future_of_all);
}

START_TEST(a_refused_sleep_is_told_and_changes_nothing) {
    check_refused(_i, AT_WAIT, EINVAL, MTASK_FOREVER);
}
END_TEST

START_TEST(a_refused_timed_sleep_is_told_and_changes_nothing) {
    check_refused(_i, AT_WAIT, ENOSYS, MTASK_SEC(60));
}
END_TEST

START_TEST(a_timed_wait_without_a_clock_is_told_and_changes_nothing) {
    check_refused(_i, AT_CLOCK, EINVAL, MTASK_SEC(60));
}
END_TEST

START_TEST(a_try_needs_no_clock) {
    make_it_block(_i);
    arm(AT_CLOCK, 1, LONG_MAX, EINVAL);
    ck_assert_status(waitings[_i].wait(MTASK_NOWAIT), MTASK_TIMEOUT);
    waitings[_i].wake();
    ck_assert_status(waitings[_i].wait(MTASK_FOREVER), MTASK_OK);
    disarm(AT_CLOCK);
    mtask_future_release(future_of_all);
}
END_TEST

/* ---- conditions, barriers, once ---- */

static mtask_cond cond;

/* A wait on the condition that is refused: the mutex is held afterwards, and nobody is left in the
   condition who could swallow a notify. */
static void check_cond_refused(point at, int error, int64_t timeout) {
    ck_assert_status(mtask_mutex_lock(&mutex), MTASK_OK);
    arm(at, 1, 1, error);
    errno = 0;
    ck_assert_status(mtask_cond_wait(&cond, &mutex, timeout), MTASK_SYSTEM);
    ck_assert_int_eq(errno, error);
    ck_assert_int_eq(disarm(at), 1);
    ck_assert(mtask_mutex_is_locked(&mutex));
    ck_assert_ptr_null(cond.waiters);
    ck_assert_status(mtask_cond_wait(&cond, &mutex, MTASK_US(50)), MTASK_TIMEOUT);
    ck_assert_status(mtask_mutex_unlock(&mutex), MTASK_OK);
}

START_TEST(a_refused_wait_on_a_condition_holds_the_mutex_again) {
    check_cond_refused(AT_WAIT, EINVAL, MTASK_FOREVER);
    check_cond_refused(AT_WAIT, ENOSYS, MTASK_SEC(60));
    check_cond_refused(AT_CLOCK, EINVAL, MTASK_SEC(60));
}
END_TEST

START_TEST(waiting_for_a_predicate_tells_what_was_refused) {
    static const point points[] = {AT_WAIT, AT_CLOCK};
    for (int i = 0; i < 2; i++) {
        mtask_status status;
        ck_assert_status(mtask_mutex_lock(&mutex), MTASK_OK);
        arm(points[i], 1, LONG_MAX, EINVAL);
        MTASK_COND_WAIT_FOR(status, &cond, &mutex, MTASK_SEC(60), mtask_word_load(&word) == 1);
        ck_assert_status(status, MTASK_SYSTEM);
        ck_assert_int_ge(disarm(points[i]), 1);
        ck_assert(mtask_mutex_is_locked(&mutex));
        ck_assert_status(mtask_mutex_unlock(&mutex), MTASK_OK);
    }
}
END_TEST

START_TEST(a_refused_wait_with_a_recursive_mutex_has_its_depth_again) {
    for (int i = 0; i < 3; i++)
        ck_assert_status(mtask_rmutex_lock(&rmutex), MTASK_OK);
    for (int i = 0; i < 2; i++) {
        point at = i == 0 ? AT_WAIT : AT_CLOCK;
        arm(at, 1, 1, EINVAL);
        ck_assert_status(mtask_cond_wait_rmutex(&cond, &rmutex, MTASK_SEC(60)), MTASK_SYSTEM);
        ck_assert_int_eq(disarm(at), 1);
        ck_assert_uint_eq(mtask_rmutex_count(&rmutex), 3);
    }
    for (int i = 0; i < 3; i++)
        ck_assert_status(mtask_rmutex_unlock(&rmutex), MTASK_OK);
    ck_assert(!mtask_rmutex_is_locked(&rmutex));
}
END_TEST

/* Takes the mutex as soon as the waiter has let go of it, and keeps it for a while. */
static void *take_the_mutex(void *arg) {
    mtask_event_set(&timer_began);
    while (mtask_mutex_lock_for(&mutex, MTASK_NOWAIT) != MTASK_OK)
        sched_yield();
    for (int i = 0; i < 100; i++)
        sched_yield();
    mtask_word_store(&word, 1);
    ck_assert_status(mtask_mutex_unlock(&mutex), MTASK_OK);
    return arg;
}

START_TEST(a_condition_takes_the_mutex_back_though_it_cannot_sleep) {
    mtask_thread thread = {0};
    for (int round = 0; round < 5; round++) {
        mtask_status status = MTASK_SYSTEM;
        mtask_word_store(&word, 0);
        mtask_event_clear(&timer_began);
        ck_assert_status(mtask_mutex_lock(&mutex), MTASK_OK);
        ck_assert_status(mtask_thread_start(&thread, take_the_mutex, NULL), MTASK_OK);
        while (!mtask_event_is_set(&timer_began))
            sched_yield();
        arm(AT_WAIT, 1, LONG_MAX, EINVAL);
        while (mtask_word_load(&word) == 0) {
            status = mtask_cond_wait(&cond, &mutex, MTASK_FOREVER);
            ck_assert_status(status, MTASK_SYSTEM);
            ck_assert(mtask_mutex_is_locked(&mutex));
        }
        disarm(AT_WAIT);
        ck_assert_status(mtask_mutex_unlock(&mutex), MTASK_OK);
        ck_assert_status(mtask_thread_join(&thread, NULL, MTASK_FOREVER), MTASK_OK);
        ck_assert(!mtask_mutex_is_locked(&mutex));
    }
}
END_TEST

START_TEST(a_refused_wait_breaks_a_barrier) {
    for (int i = 0; i < 2; i++) {
        point at = i == 0 ? AT_WAIT : AT_CLOCK;
        mtask_barrier barrier;
        uint32_t index = 7;
        ck_assert_status(mtask_barrier_init(&barrier, 2, NULL, NULL, 0), MTASK_OK);
        arm(at, 1, 1, EINVAL);
        ck_assert_status(mtask_barrier_wait(&barrier, &index, MTASK_SEC(60)), MTASK_SYSTEM);
        ck_assert_int_eq(disarm(at), 1);
        if (at == AT_WAIT)
            ck_assert(mtask_barrier_is_broken(&barrier));
        ck_assert_uint_eq(mtask_barrier_waiting(&barrier), 0);
        ck_assert_status(mtask_barrier_reset(&barrier), MTASK_OK);
        ck_assert_status(mtask_barrier_wait(&barrier, &index, MTASK_US(50)), MTASK_TIMEOUT);
    }
}
END_TEST

static mtask_once_flag once;

static void *run_once_slowly(void *arg) {
    mtask_event_set(&timer_began);
    while (!mtask_event_is_set(&gate))
        sched_yield();
    return arg;
}

static void *ask_once(void *arg) {
    ck_assert_status(mtask_once(&once, run_once_slowly, arg), MTASK_OK);
    return arg;
}

START_TEST(a_refused_wait_for_once_is_told) {
    ck_assert_status(mtask_thread_start(&waiting_thread, ask_once, NULL), MTASK_OK);
    while (!mtask_event_is_set(&timer_began))
        sched_yield();
    arm(AT_WAIT, 1, LONG_MAX, EINVAL);
    ck_assert_status(mtask_once(&once, run_once_slowly, NULL), MTASK_SYSTEM);
    ck_assert_int_ge(disarm(AT_WAIT), 1);
    ck_assert(!mtask_once_is_done(&once));
    wake_by_gate();
    ck_assert_status(mtask_once(&once, run_once_slowly, NULL), MTASK_OK);
}
END_TEST

/* ---- time and CPUs ---- */

START_TEST(without_a_clock_there_is_no_time) {
    int64_t deadline = mtask_deadline(MTASK_SEC(60));
    arm(AT_CLOCK, 1, LONG_MAX, EINVAL);
    errno = 0;
    ck_assert_int_eq(mtask_now(), -1);
    ck_assert_int_eq(errno, EINVAL);
    ck_assert_int_eq(mtask_deadline(1), -1);
    ck_assert_int_eq(mtask_deadline(MTASK_NOWAIT), -1);
    ck_assert_int_eq(mtask_deadline(MTASK_FOREVER), MTASK_FOREVER);
    ck_assert_int_eq(mtask_until(MTASK_FOREVER), MTASK_FOREVER);
    ck_assert_status(mtask_sleep(MTASK_MS(1)), MTASK_SYSTEM);
    ck_assert_int_ge(disarm(AT_CLOCK), 4);
    ck_assert_int_gt(mtask_until(deadline), 0);
}
END_TEST

START_TEST(a_sleep_that_is_refused_is_told) {
    arm(AT_WAIT, 1, LONG_MAX, EINVAL);
    ck_assert_status(mtask_sleep(MTASK_SEC(60)), MTASK_SYSTEM);
    ck_assert_int_ge(disarm(AT_WAIT), 1);
    ck_assert_status(mtask_sleep(MTASK_US(1)), MTASK_OK);
}
END_TEST

START_TEST(a_timer_without_a_clock_is_not_started) {
    static mtask_timer timer;
    ck_assert_status(mtask_timer_start(&timer, 0, set_fired, NULL), MTASK_OK);
    ck_assert_status(mtask_thread_join_all(MTASK_FOREVER), MTASK_OK);
    ck_assert_status(mtask_timer_cancel(&timer, MTASK_FOREVER), MTASK_DONE);
    arm(AT_CLOCK, 1, LONG_MAX, EINVAL);
    ck_assert_status(mtask_timer_start(&timer, MTASK_MS(1), set_fired, NULL), MTASK_SYSTEM);
    ck_assert_int_ge(disarm(AT_CLOCK), 1);
    ck_assert(!mtask_timer_is_pending(&timer));
    ck_assert_status(mtask_thread_join_all(MTASK_FOREVER), MTASK_OK);
}
END_TEST

START_TEST(mtask_comes_up_without_a_clock) {
    arm(AT_CLOCK, 1, LONG_MAX, EINVAL);
    ck_assert_uint_ne(mtask_task_id(), 0); /* mtask initialises itself here */
    ck_assert_status(start_and_join(), MTASK_OK);
    disarm(AT_CLOCK);
    ck_assert_status(start_and_join(), MTASK_OK);
}
END_TEST

START_TEST(there_is_a_cpu_though_the_system_does_not_say) {
    unsigned cpus = mtask_cpu_count();
    arm(AT_AFFINITY, 1, LONG_MAX, EINVAL);
    ck_assert_uint_ge(mtask_cpu_count(), 1);
    disarm(AT_AFFINITY);
    ck_assert_uint_eq(mtask_cpu_count(), cpus);
}
END_TEST

int main(void) {
    const TTest *const loops[] = {a_refused_sleep_is_told_and_changes_nothing,
                                  a_refused_timed_sleep_is_told_and_changes_nothing,
                                  a_timed_wait_without_a_clock_is_told_and_changes_nothing,
                                  a_try_needs_no_clock};
    const TTest *const tests[] = {a_thread_that_cannot_be_started_for_lack_of_memory_leaves_nothing,
                                  a_thread_that_the_system_refuses_leaves_nothing,
                                  a_daemon_that_cannot_be_started_leaves_nothing,
                                  a_handle_can_be_used_after_a_failed_start,
                                  a_thread_that_fails_to_start_does_no_harm_to_who_attached_to_it,
                                  a_failure_keeps_its_status_without_memory,
                                  join_waits_for_a_cancelled_thread_that_has_not_arrived_yet,
                                  a_thread_may_be_renamed_before_it_has_arrived,
                                  a_local_without_a_key_is_not_initialised,
                                  a_value_that_cannot_be_set_leaves_the_old_one,
                                  threads_work_without_a_key_of_mtasks_own,
                                  threads_work_without_values_of_their_own,
                                  futures_without_memory_tell_so_and_leave_nothing,
                                  few_futures_are_waited_for_without_memory,
                                  create_without_memory_gives_no_future,
                                  a_future_fails_without_memory,
                                  a_timer_without_memory_for_its_thread_is_not_started,
                                  a_timer_without_a_thread_is_not_started,
                                  a_timer_without_thread_attributes_is_not_started,
                                  later_timers_need_no_memory,
                                  a_timer_fires_though_its_thread_cannot_sleep_for_a_while,
                                  a_refused_wait_on_a_condition_holds_the_mutex_again,
                                  waiting_for_a_predicate_tells_what_was_refused,
                                  a_refused_wait_with_a_recursive_mutex_has_its_depth_again,
                                  a_condition_takes_the_mutex_back_though_it_cannot_sleep,
                                  a_refused_wait_breaks_a_barrier,
                                  a_refused_wait_for_once_is_told,
                                  without_a_clock_there_is_no_time,
                                  a_sleep_that_is_refused_is_told,
                                  a_timer_without_a_clock_is_not_started,
                                  mtask_comes_up_without_a_clock,
                                  there_is_a_cpu_though_the_system_does_not_say};
    Suite *suite = testing_suite("failure", tests, sizeof tests / sizeof tests[0]);
    TCase *tcase = tcase_create("waits");
    tcase_set_timeout(tcase, TEST_TIMEOUT);
    for (size_t i = 0; i < sizeof loops / sizeof loops[0]; i++)
        tcase_add_loop_test(tcase, loops[i], 0, WAITINGS);
    suite_add_tcase(suite, tcase);
    return testing_main(suite);
}
