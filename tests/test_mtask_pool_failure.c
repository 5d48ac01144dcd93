/* test_mtask_pool_failure.c - pools when memory, threads, sleeps, clocks or fences are refused
// standalone: it holds the implementation itself, with the calls of the system that may fail
   replaced by ones that fail when they are told to. */
#define _GNU_SOURCE 1
#include <errno.h>
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
    AT_MEMORY,
    AT_THREAD,  /* pthread_create */
    AT_ATTR,    /* pthread_attr_init and pthread_attr_set... */
    AT_WAIT,    /* a futex wait; without futex, what a wait needs of pthread */
    AT_CLOCK,   /* clock_gettime */
    AT_BARRIER, /* membarrier */
    POINTS
} point;

/* In which threads. */
typedef enum scope { EVERYWHERE, HERE, ELSEWHERE } scope;

#include "testing_inject.h"

static scope scopes[POINTS];
static long live_blocks;    /* of memory */
static long live_attrs;     /* pthread_attr_t that are initialised */
static __thread bool armed; /* this is the thread of the test */

/* Whether this call at `at` has to fail. */
static bool fails(point at) {
    scope where = __atomic_load_n(&scopes[at], __ATOMIC_SEQ_CST);
    if ((where == HERE && !armed) || (where == ELSEWHERE && armed))
        return false;
    return fails_at(at);
}

/* As arm, of calls that are made there. */
static void arm_where(point at, scope where, long first, long number, int error) {
    (void)disarm(at);
    __atomic_store_n(&scopes[at], where, __ATOMIC_SEQ_CST);
    armed = true;
    arm(at, first, number, error);
}

static void arm_everywhere(point at, long first, long number, int error) {
    arm_where(at, EVERYWHERE, first, number, error);
}

/* ---- the replaced calls ---- */

static void *fake_realloc(void *memory, size_t size) {
    void *block = fails(AT_MEMORY) ? NULL : realloc(memory, size);
    add(&live_blocks, memory == NULL && block != NULL);
    return block;
}

static void *fake_malloc(size_t size) {
    return fake_realloc(NULL, size);
}

static void fake_free(void *memory) {
    add(&live_blocks, -(memory != NULL));
    free(memory);
}

static int fake_pthread_create(pthread_t *thread, const pthread_attr_t *attr,
                               void *(*fn)(void *arg), void *arg) {
    return fails(AT_THREAD) ? error_at(AT_THREAD) : pthread_create(thread, attr, fn, arg);
}

static int fake_attr_init(pthread_attr_t *attr) {
    if (fails(AT_ATTR))
        return error_at(AT_ATTR);
    add(&live_attrs, 1);
    return pthread_attr_init(attr);
}

static int fake_attr_destroy(pthread_attr_t *attr) {
    add(&live_attrs, -1);
    return pthread_attr_destroy(attr);
}

static int fake_setstacksize(pthread_attr_t *attr, size_t size) {
    return fails(AT_ATTR) ? error_at(AT_ATTR) : pthread_attr_setstacksize(attr, size);
}

static int fake_setdetachstate(pthread_attr_t *attr, int state) {
    return fails(AT_ATTR) ? error_at(AT_ATTR) : pthread_attr_setdetachstate(attr, state);
}

static int fake_setaffinity(pthread_attr_t *attr, size_t size, const cpu_set_t *cpus) {
    return fails(AT_ATTR) ? error_at(AT_ATTR) : pthread_attr_setaffinity_np(attr, size, cpus);
}

static int fake_clock_gettime(clockid_t clock, struct timespec *time) {
    if (fails(AT_CLOCK)) {
        errno = error_at(AT_CLOCK);
        return -1;
    }
    return clock_gettime(clock, time);
}

#ifdef MTASK_FORCE_POSIX
static int fake_cond_init(pthread_cond_t *cond, const pthread_condattr_t *attr) {
    return fails(AT_WAIT) ? error_at(AT_WAIT) : pthread_cond_init(cond, attr);
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
    if (is_wait(number, a[1]) && fails(AT_WAIT)) {
        errno = error_at(AT_WAIT);
        return -1;
    }
    if (number == SYS_membarrier && fails(AT_BARRIER)) {
        errno = error_at(AT_BARRIER);
        return -1;
    }
    return syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

/* ---- the implementation, on top of them ---- */

#define MTASK_MALLOC(size)          fake_malloc(size)
#define MTASK_REALLOC(p, size)      fake_realloc((p), (size))
#define MTASK_FREE(p)               fake_free(p)
#define pthread_create              fake_pthread_create
#define pthread_attr_init           fake_attr_init
#define pthread_attr_destroy        fake_attr_destroy
#define pthread_attr_setstacksize   fake_setstacksize
#define pthread_attr_setdetachstate fake_setdetachstate
#define pthread_attr_setaffinity_np fake_setaffinity
#define clock_gettime               fake_clock_gettime
#define syscall                     fake_syscall
#ifdef MTASK_FORCE_POSIX
# define pthread_cond_init fake_cond_init
#endif
#define MTASK_IMPLEMENTATION
#include "../mtask_pool.h"
#undef pthread_create
#undef pthread_attr_init
#undef pthread_attr_destroy
#undef pthread_attr_setstacksize
#undef pthread_attr_setdetachstate
#undef pthread_attr_setaffinity_np
#undef clock_gettime
#undef syscall
#undef pthread_cond_init

#include "testing_threads.h"

/* ---- pools of the tests ---- */

static mtask_pool *open_pool(unsigned workers) {
    mtask_pool_desc desc = {.workers = workers};
    mtask_pool *pool = NULL;
    ck_assert_status(mtask_pool_create(&pool, &desc), MTASK_OK);
    return pool;
}

static void *pack(long number) {
    return (void *)(intptr_t)number;
}

static long unpack(const void *value) {
    return (long)(intptr_t)value;
}

static void *plus_one(void *arg) {
    return pack(unpack(arg) + 1);
}

/* What a task returns that must succeed; gives the future back. */
static long take(mtask_future *future) {
    mtask_outcome outcome;
    ck_assert_status(mtask_future_get(future, &outcome, MTASK_FOREVER), MTASK_OK);
    mtask_future_release(future);
    return unpack(outcome.value);
}

static void *plus_one_nested(void *arg) {
    mtask_future *future = NULL;
    ck_assert_status(mtask_pool_submit(mtask_pool_current(), plus_one, arg, &future), MTASK_OK);
    return pack(take(future));
}

/* Whatever was refused before, the pool does what it should. */
static void check_usable(mtask_pool *pool) {
    mtask_future *futures[6];
    for (long i = 0; i < 6; i++)
        ck_assert_status(
            mtask_pool_submit(pool, i % 2 == 0 ? plus_one : plus_one_nested, pack(i), &futures[i]),
            MTASK_OK);
    for (long i = 0; i < 6; i++)
        ck_assert_int_eq(take(futures[i]), i + 1);
}

/* Waits until a counter has come back to `value`: threads free their blocks last of all. */
static void await_count(const long *counter, long value) {
    for (int i = 0; i < 5000 && look(counter) != value; i++)
        testing_pause(1);
    ck_assert_int_eq(look(counter), value);
}

static void check_nothing_left(void) {
    await_count(&live_blocks, 0);
    ck_assert_int_eq(look(&live_attrs), 0);
    ck_assert_uint_eq(mtask_thread_active_count(), 1);
}

/* ---- workers that are held up, so that tasks pile up ---- */

static mtask_event gate;

static void *pass_gate(void *arg) {
    while (mtask_event_wait(&gate, MTASK_FOREVER) != MTASK_OK) /* if sleeps are refused */
        sched_yield();
    return arg;
}

static mtask_pool_stats stats_of(mtask_pool *pool) {
    mtask_pool_stats stats;
    ck_assert_status(mtask_pool_get_stats(pool, &stats, NULL, 0), MTASK_OK);
    return stats;
}

static void plug(mtask_pool *pool) {
    unsigned workers = mtask_pool_workers(pool);
    mtask_event_clear(&gate);
    for (unsigned i = 0; i < workers; i++)
        ck_assert_status(mtask_pool_post(pool, pass_gate, NULL), MTASK_OK);
    while (stats_of(pool).running != workers)
        sched_yield();
}

static void unplug(void) {
    mtask_event_set(&gate);
}

/* ---- one failure after the other ---- */

/* Does something with a pool whose workers are held up, and lets them go at some time. Checks what it
   got; what it returns is MTASK_OK, or the status with which it was refused. */
typedef mtask_status (*action)(mtask_pool *pool);

/* Does it with `number` failures, from the `first` call at `at` on. Returns how many there were, and
   adds to *refusals if it made a difference. */
static long fail_at(point at, long first, long number, action act, mtask_status expected,
                    long *refusals) {
    mtask_pool *pool = open_pool(2);
    mtask_status status;
    long hits;
    plug(pool);
    arm_everywhere(at, first, number, at == AT_MEMORY ? ENOMEM : EAGAIN);
    status = act(pool);
    hits = disarm(at);
    unplug();
    *refusals += status != MTASK_OK;
    if (hits == 0 || status != MTASK_OK)
        ck_assert_status(status, hits == 0 ? MTASK_OK : expected);
    check_usable(pool);
    ck_assert_status(mtask_pool_destroy(pool), MTASK_OK);
    check_nothing_left();
    return hits;
}

/* Does it with the first, the second, ... call failing, and with all from that on, until there is
   none left to fail. Each time it must be done, or refused as `expected`, and leave nothing behind
   and the pool as it was. At least `least` failures must be refusals. */
static void fail_each(point at, action act, mtask_status expected, long least) {
    long refusals = 0, hits = 0;
    for (long first = 1;; first++) {
        long once = fail_at(at, first, 1, act, expected, &refusals);
        long for_good = fail_at(at, first, LONG_MAX, act, expected, &refusals);
        hits += once;
        if (once == 0 && for_good == 0)
            break;
        ck_assert_int_lt(first, 2000);
    }
    ck_assert_int_gt(hits, 0);
    ck_assert_int_ge(refusals, least);
}

/* ---- pools that cannot be made ---- */

static long hooks; /* inits without their deinits */

static void *count_init(void *arg) {
    add(&hooks, 1);
    return arg;
}

static void count_deinit(void *ctx) {
    add(&hooks, -1);
    (void)ctx;
}

/* Returns how many calls at `at` it takes to make the pool. */
static long fail_create(const mtask_pool_desc *desc, point at, int error, mtask_status expected) {
    for (long first = 1;; first++) {
        mtask_pool *pool = NULL;
        mtask_status status;
        int seen;
        arm_everywhere(at, first, first % 2 == 0 ? LONG_MAX : 1, error);
        errno = 0;
        status = mtask_pool_create(&pool, desc);
        seen = errno;
        if (disarm(at) == 0) {
            ck_assert_status(status, MTASK_OK);
            check_usable(pool);
            ck_assert_status(mtask_pool_destroy(pool), MTASK_OK);
            check_nothing_left();
            ck_assert_int_eq(look(&hooks), 0);
            return first - 1;
        }
        ck_assert_status(status, expected);
        if (status == MTASK_SYSTEM)
            ck_assert_int_eq(seen, error);
        check_nothing_left();
        ck_assert_int_eq(look(&hooks), 0);
        ck_assert_int_lt(first, 1000);
    }
}

static mtask_pool_desc describe_all(void) {
    static unsigned cpu;
    mtask_pool_desc desc = {.workers = 3, .spare = 2, .name = "described", .backlog = 5};
    cpu = (unsigned)sched_getcpu();
    desc.init = count_init;
    desc.deinit = count_deinit;
    desc.cpus = &cpu;
    desc.cpu_count = 1;
    desc.pin = true;
    desc.stack_size = 1 << 20;
    desc.jobs = 10;
    return desc;
}

START_TEST(a_pool_without_memory_leaves_nothing) {
    mtask_pool_desc few = {.workers = 2, .init = count_init, .deinit = count_deinit};
    mtask_pool_desc all = describe_all();
    ck_assert_int_ge(fail_create(NULL, AT_MEMORY, 0, MTASK_NOMEM), 1);
    ck_assert_int_ge(fail_create(&few, AT_MEMORY, 0, MTASK_NOMEM), 3);
    ck_assert_int_ge(fail_create(&all, AT_MEMORY, 0, MTASK_NOMEM), 4);
}
END_TEST

START_TEST(a_pool_without_threads_leaves_nothing) {
    mtask_pool_desc few = {.workers = 5, .init = count_init, .deinit = count_deinit};
    mtask_pool_desc all = describe_all();
    ck_assert_int_eq(fail_create(&few, AT_THREAD, EAGAIN, MTASK_SYSTEM), 5);
    ck_assert_int_eq(fail_create(&few, AT_THREAD, ENOMEM, MTASK_NOMEM), 5);
    ck_assert_int_eq(fail_create(&all, AT_THREAD, EPERM, MTASK_SYSTEM), 3);
    ck_assert_int_ge(fail_create(&all, AT_ATTR, EINVAL, MTASK_SYSTEM), 9);
}
END_TEST

START_TEST(a_pool_cannot_be_larger_than_the_system_allows) {
    mtask_pool_desc desc = {.workers = 1024, .stack_size = (size_t)1 << 46};
    mtask_pool *pool = NULL;
    mtask_status status;
    status = mtask_pool_create(&pool, &desc);
    ck_assert(status == MTASK_SYSTEM || status == MTASK_NOMEM);
    check_nothing_left();
}
END_TEST

/* ---- the default pool ---- */

static mtask_status make_default(void) {
    mtask_pool *pool;
    return mtask_pool_default(&pool);
}

static mtask_status submit_to_default(void) {
    mtask_future *future = NULL;
    mtask_status status = mtask_pool_submit(NULL, plus_one, pack(1), &future);
    if (status == MTASK_OK)
        ck_assert_int_eq(take(future), 2);
    return status;
}

static mtask_status post_to_default(void) {
    return mtask_pool_post(NULL, plus_one, NULL);
}

static mtask_status group_on_default(void) {
    mtask_group group;
    return mtask_group_init(&group, NULL, 0);
}

static long counted;

static void *count_one(void *arg) {
    add(&counted, 1);
    return arg;
}

static void count_indices(size_t begin, size_t end, void *ctx) {
    add(&counted, (long)(end - begin));
    (void)ctx;
}

static mtask_status loop_on_default(void) {
    mtask_status status;
    counted = 0;
    status = mtask_pool_for(NULL, 0, 100, count_indices, NULL);
    ck_assert_int_le(look(&counted), 100);
    if (status == MTASK_OK)
        ck_assert_int_eq(look(&counted), 100);
    return status;
}

static mtask_status (*const users_of_default[])(void) = {
    make_default, submit_to_default, post_to_default, group_on_default, loop_on_default};

/* The default pool is made as soon as it can be. */
static void fail_default(mtask_status (*use)(void), point at, int error, mtask_status expected) {
    mtask_pool *pool = NULL;
    long refusals = 0;
    for (long first = 1;; first++) {
        mtask_status status;
        arm_everywhere(at, first, 1, error);
        status = use();
        if (disarm(at) == 0) {
            ck_assert_status(status, MTASK_OK);
            break;
        }
        if (status != MTASK_OK)
            ck_assert_status(status, expected);
        refusals += status != MTASK_OK;
    }
    ck_assert_int_gt(refusals, 0);
    ck_assert_status(mtask_pool_default(&pool), MTASK_OK);
    check_usable(pool);
}

START_TEST(the_default_pool_is_made_when_it_can_be) {
    fail_default(users_of_default[_i], AT_MEMORY, 0, MTASK_NOMEM);
}
END_TEST

START_TEST(the_default_pool_is_made_when_there_are_threads) {
    fail_default(users_of_default[_i], AT_THREAD, EAGAIN, MTASK_SYSTEM);
}
END_TEST

START_TEST(a_default_pool_that_cannot_be_made_leaves_nothing) {
    mtask_pool *pool = NULL, *again = NULL;
    for (long first = 1;; first++) {
        mtask_status status;
        arm_everywhere(AT_MEMORY, first, LONG_MAX, 0);
        status = mtask_pool_default(&pool);
        if (disarm(AT_MEMORY) == 0)
            break;
        ck_assert_status(status, MTASK_NOMEM);
        check_nothing_left();
    }
    ck_assert_status(mtask_pool_default(&again), MTASK_OK);
    ck_assert(pool == again);
    check_usable(pool);
}
END_TEST

/* ---- tasks ---- */

#define TASKS 60

static mtask_status submit_many(mtask_pool *pool) {
    mtask_future *futures[TASKS];
    mtask_status status = MTASK_OK;
    long count = 0;
    for (; count < TASKS; count++) {
        futures[count] = NULL;
        status = mtask_pool_submit(pool, plus_one, pack(count), &futures[count]);
        if (status != MTASK_OK)
            break;
    }
    if (status != MTASK_OK)
        ck_assert_ptr_null(futures[count]);
    unplug();
    for (long i = 0; i < count; i++)
        ck_assert_int_eq(take(futures[i]), i + 1);
    return status;
}

/* So many that the backlog grows. */
static mtask_status post_many(mtask_pool *pool) {
    uint64_t before = stats_of(pool).done;
    mtask_status status = MTASK_OK;
    uint64_t count = 0;
    counted = 0;
    for (; count < 3000 && status == MTASK_OK; count += status == MTASK_OK)
        status = mtask_pool_post(pool, count_one, NULL);
    ck_assert_uint_eq(stats_of(pool).pending, count);
    unplug();
    while (stats_of(pool).done != before + 2 + count) /* those at the gate, too */
        sched_yield();
    ck_assert_int_eq(look(&counted), (long)count);
    return status;
}

static long succeeded, failed, freed;

static void on_success(void *value, void *ctx) {
    add(&succeeded, 1);
    ck_assert_ptr_eq(ctx, &succeeded);
    (void)value;
}

static void on_failure(const mtask_outcome *outcome, void *ctx) {
    add(&failed, 1);
    ck_assert_status(outcome->status, MTASK_NOT_FOUND);
    ck_assert_ptr_eq(ctx, &succeeded);
}

static void free_number(void *value) {
    add(&freed, 1);
    (void)value;
}

static void *fail_if_odd(void *arg) {
    if (unpack(arg) % 2 != 0)
        return mtask_fail(MTASK_NOT_FOUND, "%ld is odd", unpack(arg));
    return arg;
}

/* A failure has its status also without memory for its text. */
static void check_odd(const mtask_outcome *outcome, long number) {
    char expected[40];
    snprintf(expected, sizeof expected, "%ld is odd", number);
    ck_assert_status(outcome->status, MTASK_NOT_FOUND);
    if (outcome->text[0] != '\0')
        ck_assert_str_eq(outcome->text, expected);
}

static mtask_status submit_described(mtask_pool *pool) {
    mtask_group group;
    mtask_task_desc desc = {.fn = fail_if_odd, .group = &group, .ctx = &succeeded};
    mtask_outcome outcome;
    mtask_status status = MTASK_OK;
    long count = 0;
    succeeded = failed = freed = 0;
    desc.free_value = free_number;
    desc.on_success = on_success;
    desc.on_failure = on_failure;
    ck_assert_status(mtask_group_init(&group, pool, 0), MTASK_OK);
    for (; count < TASKS && status == MTASK_OK; count += status == MTASK_OK) {
        mtask_future *future = NULL;
        desc.arg = pack(count + 2);
        status = mtask_pool_submit_ex(pool, &desc, count % 3 == 0 ? &future : NULL, MTASK_FOREVER);
        mtask_future_release(future);
    }
    unplug();
    if (count < 2)
        ck_assert_status(mtask_group_wait(&group, &outcome, MTASK_FOREVER), MTASK_OK);
    else
        ck_assert_status(mtask_group_wait(&group, &outcome, MTASK_FOREVER), MTASK_FAILED);
    if (count >= 2)
        check_odd(&outcome, atol(outcome.text));
    while (look(&freed) != (count + 1) / 2) /* a task goes when its group has been told */
        sched_yield();
    ck_assert_int_eq(look(&succeeded), (count + 1) / 2);
    ck_assert_int_eq(look(&failed), count / 2);
    return status;
}

static mtask_status submit_failing(mtask_pool *pool) {
    mtask_future *futures[TASKS];
    mtask_status status = MTASK_OK;
    mtask_outcome outcome;
    long count = 0;
    unplug(); /* some end before others are submitted */
    for (; count < TASKS && status == MTASK_OK; count += status == MTASK_OK)
        status = mtask_pool_submit(pool, fail_if_odd, pack(count), &futures[count]);
    for (long i = 0; i < count; i++) {
        mtask_status got = mtask_future_get(futures[i], &outcome, MTASK_FOREVER);
        ck_assert_status(got, i % 2 == 0 ? MTASK_OK : MTASK_FAILED);
        if (i % 2 != 0)
            check_odd(&outcome, i);
        mtask_future_release(futures[i]);
    }
    return status;
}

static mtask_status fill_group(mtask_pool *pool) {
    mtask_group group;
    mtask_status status = MTASK_OK;
    long count = 0;
    counted = 0;
    ck_assert_status(mtask_group_init(&group, pool, MTASK_FAIL_FAST), MTASK_OK);
    for (; count < TASKS && status == MTASK_OK; count += status == MTASK_OK) {
        mtask_future *future = NULL;
        status = count % 2 == 0 ? mtask_group_post(&group, count_one, NULL)
                                : mtask_group_submit(&group, count_one, NULL, &future);
        mtask_future_release(future);
    }
    ck_assert_uint_eq(mtask_group_pending(&group), (size_t)count);
    unplug();
    ck_assert_status(mtask_group_wait(&group, NULL, MTASK_FOREVER), MTASK_OK);
    ck_assert_int_eq(look(&counted), count);
    return status;
}

/* What was accepted while memory ran out can be cancelled. */
static mtask_status cancel_group(mtask_pool *pool) {
    mtask_group group;
    mtask_status status = MTASK_OK;
    long count = 0;
    counted = 0;
    ck_assert_status(mtask_group_init(&group, pool, 0), MTASK_OK);
    for (; count < TASKS && status == MTASK_OK; count += status == MTASK_OK) {
        mtask_future *future = NULL;
        status = mtask_group_submit(&group, count_one, NULL, &future);
        mtask_future_release(future);
    }
    ck_assert_status(mtask_group_cancel(&group), MTASK_OK);
    ck_assert_status(mtask_group_wait(&group, NULL, MTASK_FOREVER),
                     count == 0 ? MTASK_OK : MTASK_CANCELED);
    ck_assert_int_eq(look(&counted), 0);
    return status;
}

START_TEST(a_task_without_memory_is_refused) {
    fail_each(AT_MEMORY, submit_many, MTASK_NOMEM, TASKS);
}
END_TEST

START_TEST(posting_needs_memory_only_for_a_longer_backlog) {
    fail_each(AT_MEMORY, post_many, MTASK_NOMEM, 2);
}
END_TEST

START_TEST(a_described_task_without_memory_is_refused) {
    fail_each(AT_MEMORY, submit_described, MTASK_NOMEM, 10);
}
END_TEST

START_TEST(a_task_that_fails_without_memory_keeps_its_status) {
    fail_each(AT_MEMORY, submit_failing, MTASK_NOMEM, 10);
}
END_TEST

START_TEST(a_group_without_memory_counts_what_it_has) {
    fail_each(AT_MEMORY, fill_group, MTASK_NOMEM, 10);
    fail_each(AT_MEMORY, cancel_group, MTASK_NOMEM, 1);
}
END_TEST

/* ---- maps and loops ---- */

#define ITEMS 40

static long inside; /* items that are being worked on */

static void square(const void *in, void *out, void *ctx) {
    add(&inside, 1);
    *(long *)out = *(const long *)in * *(const long *)in;
    if (*(const long *)in == ITEMS / 2)
        (void)mtask_fail(MTASK_NOT_FOUND, "%ld is odd", *(const long *)in); /* so to speak */
    add(&inside, -1);
    (void)ctx;
}

static mtask_map_desc describe_map(long *in, long *out, mtask_status *statuses) {
    mtask_map_desc map = {.fn = square, .count = ITEMS, .chunk = 3};
    for (long i = 0; i < ITEMS; i++)
        in[i] = i;
    memset(out, 0, ITEMS * sizeof *out);
    map.in = in;
    map.out = out;
    map.statuses = statuses;
    map.in_size = map.out_size = sizeof(long);
    return map;
}

static void check_map(const long *out, const mtask_status *statuses, const mtask_outcome *outcome) {
    for (long i = 0; i < ITEMS; i++) {
        testing_check(out[i] == i * i);
        testing_check(statuses[i] == (i == ITEMS / 2 ? MTASK_NOT_FOUND : MTASK_OK));
    }
    check_odd(outcome, ITEMS / 2);
}

static mtask_status map_some(mtask_pool *pool) {
    long in[ITEMS], out[ITEMS];
    mtask_status statuses[ITEMS];
    mtask_map_desc map = describe_map(in, out, statuses);
    mtask_outcome outcome;
    mtask_status status;
    unplug();
    status = mtask_pool_map(pool, &map, &outcome);
    ck_assert_int_eq(look(&inside), 0); /* the arrays are the caller's again */
    if (status != MTASK_FAILED)
        return status;
    check_map(out, statuses, &outcome);
    return MTASK_OK;
}

static mtask_status map_async(mtask_pool *pool) {
    long in[ITEMS], out[ITEMS];
    mtask_status statuses[ITEMS];
    mtask_map_desc map = describe_map(in, out, statuses);
    mtask_future *future = NULL;
    mtask_outcome outcome;
    mtask_status status = mtask_pool_map_async(pool, &map, &future);
    unplug();
    if (status != MTASK_OK) {
        ck_assert_ptr_null(future);
        while (stats_of(pool).running != 0) /* nobody comes back to the arrays */
            sched_yield();
        ck_assert_int_eq(look(&inside), 0);
        return status;
    }
    ck_assert_status(mtask_future_get(future, &outcome, MTASK_FOREVER), MTASK_FAILED);
    ck_assert_int_eq(look(&inside), 0);
    check_map(out, statuses, &outcome);
    mtask_future_release(future);
    return MTASK_OK;
}

static mtask_status pull(void *in, void *ctx) {
    long *next = (long *)ctx;
    if (*next == ITEMS)
        return MTASK_DONE;
    *(long *)in = (*next)++;
    return MTASK_OK;
}

static mtask_status iterate(mtask_pool *pool, bool unordered) {
    long next = 0;
    mtask_imap_desc desc = {.fn = square, .input = pull, .ctx = &next, .chunk = 3};
    mtask_imap *imap = NULL;
    mtask_item item;
    mtask_status status;
    desc.in_size = desc.out_size = sizeof(long);
    desc.unordered = unordered;
    status = mtask_pool_imap(pool, &desc, &imap);
    unplug();
    if (status != MTASK_OK) {
        ck_assert_ptr_null(imap);
        return status;
    }
    for (long i = 0; i < ITEMS; i++) {
        status = mtask_imap_next(imap, &item, MTASK_FOREVER);
        testing_check(unordered || item.index == (size_t)i);
        testing_check(*(long *)item.out == (long)(item.index * item.index));
        testing_check(item.status == (item.index == ITEMS / 2 ? MTASK_NOT_FOUND : MTASK_OK));
        testing_check(status == (item.index == ITEMS / 2 ? MTASK_FAILED : MTASK_OK));
    }
    ck_assert_status(mtask_imap_next(imap, &item, MTASK_FOREVER), MTASK_DONE);
    mtask_imap_close(imap);
    return MTASK_OK;
}

static mtask_status iterate_in_order(mtask_pool *pool) {
    return iterate(pool, false);
}

static mtask_status iterate_in_any_order(mtask_pool *pool) {
    return iterate(pool, true);
}

/* Closed in the middle. */
static mtask_status iterate_a_little(mtask_pool *pool) {
    long next = 0;
    mtask_imap_desc desc = {.fn = square, .input = pull, .ctx = &next, .ahead = 10};
    mtask_imap *imap = NULL;
    mtask_item item;
    mtask_status status;
    desc.in_size = desc.out_size = sizeof(long);
    status = mtask_pool_imap(pool, &desc, &imap);
    unplug();
    if (status != MTASK_OK)
        return status;
    for (long i = 0; i < 3; i++)
        ck_assert_status(mtask_imap_next(imap, &item, MTASK_FOREVER), MTASK_OK);
    mtask_imap_close(imap);
    ck_assert_int_le(next, 13);
    return MTASK_OK;
}

static void add_indices(size_t begin, size_t end, void *into, void *ctx) {
    for (size_t i = begin; i < end; i++)
        *(long *)into += (long)i;
    (void)ctx;
}

static void add_sums(void *into, const void *later, void *ctx) {
    *(long *)into += *(const long *)later;
    (void)ctx;
}

static mtask_status reduce(mtask_pool *pool) {
    const long zero = 0;
    long sum = -1;
    mtask_for_desc loop = {.end = 1000, .grain = 10, .fold = add_indices, .identity = &zero};
    mtask_status status;
    loop.combine = add_sums;
    loop.size = sizeof zero;
    unplug();
    status = mtask_pool_reduce(pool, &loop, &sum, NULL);
    if (status == MTASK_OK)
        ck_assert_int_eq(sum, 999 * 500);
    return status;
}

static mtask_status loop(mtask_pool *pool) {
    mtask_for_desc desc = {.end = 1000, .grain = 10, .body = count_indices};
    mtask_status status;
    counted = 0;
    unplug();
    status = mtask_pool_for_ex(pool, &desc, NULL);
    if (status == MTASK_OK)
        ck_assert_int_eq(look(&counted), 1000);
    return status;
}

START_TEST(a_map_without_memory_is_done_or_refused) {
    fail_each(AT_MEMORY, map_some, MTASK_NOMEM, 0);
    fail_each(AT_MEMORY, map_async, MTASK_NOMEM, 1);
}
END_TEST

START_TEST(an_iterator_without_memory_is_refused_or_comes_to_its_end) {
    fail_each(AT_MEMORY, iterate_in_order, MTASK_NOMEM, 1);
    fail_each(AT_MEMORY, iterate_in_any_order, MTASK_NOMEM, 1);
    fail_each(AT_MEMORY, iterate_a_little, MTASK_NOMEM, 1);
}
END_TEST

START_TEST(a_loop_without_memory_is_done_or_refused) {
    fail_each(AT_MEMORY, loop, MTASK_NOMEM, 0);
    fail_each(AT_MEMORY, reduce, MTASK_NOMEM, 0);
}
END_TEST

/* ---- futures of tasks ---- */

static mtask_status wait_for(mtask_pool *pool, size_t count, mtask_wait_mode mode) {
    mtask_future *futures[20];
    mtask_status status = MTASK_OK;
    size_t made = 0;
    for (; made < count && status == MTASK_OK; made += status == MTASK_OK)
        status = mtask_pool_submit(pool, plus_one, pack((long)made), &futures[made]);
    if (status == MTASK_OK && mtask_pool_current() == NULL)
        unplug();
    if (status == MTASK_OK)
        status = mtask_futures_wait(futures, count, mode, MTASK_FOREVER);
    unplug();
    for (size_t i = 0; i < made; i++)
        ck_assert_int_eq(take(futures[i]), (long)i + 1);
    return status;
}

static mtask_status wait_for_all(mtask_pool *pool) {
    return wait_for(pool, 20, MTASK_WAIT_ALL);
}

static mtask_status wait_for_any(mtask_pool *pool) {
    return wait_for(pool, 20, MTASK_WAIT_ANY);
}

static void count_future(mtask_future *future, void *ctx) {
    add(&counted, 1);
    (void)future;
    (void)ctx;
}

static mtask_status add_callbacks(mtask_pool *pool) {
    mtask_future *future = NULL;
    mtask_status status = mtask_pool_submit(pool, plus_one, pack(1), &future);
    long added = 0;
    counted = 0;
    for (int i = 0; i < 10 && status == MTASK_OK; i++, added += status == MTASK_OK)
        status = mtask_future_then(future, count_future, NULL);
    unplug();
    if (future != NULL)
        ck_assert_int_eq(take(future), 2);
    await_count(&counted, added);
    return status;
}

static mtask_status complete(mtask_pool *pool) {
    mtask_future *futures[10];
    mtask_completed *completed = NULL;
    mtask_status status = MTASK_OK;
    size_t made = 0, at = 99;
    for (; made < 10 && status == MTASK_OK; made += status == MTASK_OK)
        status = mtask_pool_submit(pool, plus_one, pack((long)made), &futures[made]);
    if (status == MTASK_OK)
        status = mtask_as_completed(futures, made, &completed);
    unplug();
    for (int i = 0; i < 10 && status == MTASK_OK; i++) {
        mtask_future *future = NULL;
        ck_assert_status(mtask_completed_next(completed, &future, &at, MTASK_FOREVER), MTASK_OK);
        testing_check(at < 10 && future == futures[at] && mtask_future_done(future));
    }
    mtask_completed_close(completed);
    for (size_t i = 0; i < made; i++)
        ck_assert_int_eq(take(futures[i]), (long)i + 1);
    return status;
}

START_TEST(waits_and_callbacks_without_memory_are_refused) {
    fail_each(AT_MEMORY, wait_for_all, MTASK_NOMEM, 21);
    fail_each(AT_MEMORY, wait_for_any, MTASK_NOMEM, 21);
    fail_each(AT_MEMORY, add_callbacks, MTASK_NOMEM, 11);
    fail_each(AT_MEMORY, complete, MTASK_NOMEM, 11);
}
END_TEST

/* ---- the same, done by a task ---- */

typedef struct errand {
    mtask_pool *pool;
    action act;
} errand;

static void *run_errand(void *arg) {
    const errand *self = (const errand *)arg;
    return pack((long)self->act(self->pool));
}

static mtask_status in_worker(mtask_pool *pool, action act) {
    errand self = {pool, act};
    mtask_future *future = NULL;
    mtask_status status = mtask_pool_submit(pool, run_errand, &self, &future);
    unplug();
    return status == MTASK_OK ? (mtask_status)take(future) : status;
}

static mtask_status submit_in_worker(mtask_pool *pool) {
    return in_worker(pool, submit_many);
}

static mtask_status map_in_worker(mtask_pool *pool) {
    return in_worker(pool, map_some);
}

static mtask_status iterate_in_worker(mtask_pool *pool) {
    return in_worker(pool, iterate_in_order);
}

static mtask_status reduce_in_worker(mtask_pool *pool) {
    return in_worker(pool, reduce);
}

static mtask_status loop_in_worker(mtask_pool *pool) {
    return in_worker(pool, loop);
}

static mtask_status complete_in_worker(mtask_pool *pool) {
    return in_worker(pool, complete);
}

static mtask_status wait_for_any_in_worker(mtask_pool *pool) {
    return in_worker(pool, wait_for_any);
}

static mtask_status wait_for_all_in_worker(mtask_pool *pool) {
    return in_worker(pool, wait_for_all);
}

START_TEST(tasks_without_memory_are_refused_what_others_are) {
    fail_each(AT_MEMORY, submit_in_worker, MTASK_NOMEM, TASKS);
    fail_each(AT_MEMORY, map_in_worker, MTASK_NOMEM, 1);
    fail_each(AT_MEMORY, iterate_in_worker, MTASK_NOMEM, 2);
    fail_each(AT_MEMORY, reduce_in_worker, MTASK_NOMEM, 1);
    fail_each(AT_MEMORY, loop_in_worker, MTASK_NOMEM, 1);
}
END_TEST

START_TEST(tasks_that_wait_without_memory_are_refused_what_others_are) {
    fail_each(AT_MEMORY, complete_in_worker, MTASK_NOMEM, 11);
    fail_each(AT_MEMORY, wait_for_any_in_worker, MTASK_NOMEM, 20);
    fail_each(AT_MEMORY, wait_for_all_in_worker, MTASK_NOMEM, 20);
}
END_TEST

/* ---- jobs ---- */

/* The leaves of a tree of jobs, each of which is 1. */
static void *count_leaves(void *arg) {
    mtask_job left, right;
    void *values[2] = {NULL, NULL};
    if (unpack(arg) == 0)
        return pack(1);
    ck_assert_status(mtask_job_spawn(&left, count_leaves, pack(unpack(arg) - 1)), MTASK_OK);
    ck_assert_status(mtask_job_spawn(&right, count_leaves, pack(unpack(arg) - 1)), MTASK_OK);
    ck_assert_status(mtask_job_sync(&right, &values[0]), MTASK_OK);
    ck_assert_status(mtask_job_sync(&left, &values[1]), MTASK_OK);
    return pack(unpack(values[0]) + unpack(values[1]));
}

static void *fail_deep_down(void *arg) {
    mtask_job job;
    void *value = NULL;
    if (unpack(arg) == 0)
        return mtask_fail(MTASK_NOT_FOUND, "7 is odd");
    ck_assert_status(mtask_job_spawn(&job, fail_deep_down, pack(unpack(arg) - 1)), MTASK_OK);
    ck_assert_status(mtask_job_sync(&job, &value), MTASK_FAILED);
    ck_assert_status(mtask_failure(NULL), MTASK_NOT_FOUND);
    return value;
}

static mtask_status fork_and_join(mtask_pool *pool) {
    (void)pool;
    ck_assert_int_eq(unpack(count_leaves(pack(10))), 1024);
    return MTASK_OK;
}

static mtask_status fork_and_fail(mtask_pool *pool) {
    mtask_future *future = NULL;
    mtask_status status = mtask_pool_submit(pool, fail_deep_down, pack(5), &future);
    mtask_outcome outcome;
    unplug();
    if (status != MTASK_OK)
        return status;
    ck_assert_status(mtask_future_get(future, &outcome, MTASK_FOREVER), MTASK_FAILED);
    check_odd(&outcome, 7);
    mtask_future_release(future);
    return MTASK_OK;
}

static mtask_status fork_in_worker(mtask_pool *pool) {
    return in_worker(pool, fork_and_join);
}

START_TEST(jobs_need_no_memory) {
    fail_each(AT_MEMORY, fork_in_worker, MTASK_NOMEM, 1);
    fail_each(AT_MEMORY, fork_and_fail, MTASK_NOMEM, 1);
}
END_TEST

/* No worker, no pool yet, and no memory for one: then it is done here. */
START_TEST(jobs_of_who_is_no_worker_are_done_whatever_fails) {
    point at = _i == 0 ? AT_MEMORY : AT_THREAD;
    long hits = 0;
    for (long first = 1; first <= 20; first++) {
        arm_everywhere(at, first, LONG_MAX, EAGAIN);
        ck_assert_int_eq(unpack(count_leaves(pack(8))), 256);
        hits += disarm(at);
    }
    ck_assert_int_gt(hits, 0);
    ck_assert_int_eq(unpack(count_leaves(pack(8))), 256);
}
END_TEST

/* ---- threads that should stand in for those who wait, and cannot be started ---- */

static mtask_future *make_promise(void) {
    mtask_future *promise = NULL;
    ck_assert_status(mtask_future_create(&promise, NULL), MTASK_OK);
    return promise;
}

static void *keep_promise(void *arg) {
    (void)mtask_future_set((mtask_future *)arg, pack(5));
    return NULL;
}

/* Waits for a promise that a task of the pool would keep, if there were a thread for it; or for a
   task with a time-out, which the waiter does not run itself. */
static void *wait_for_another_thread(void *arg) {
    mtask_pool *pool = mtask_pool_current();
    mtask_future *awaited = (mtask_future *)arg;
    mtask_status status;
    if (awaited != NULL) {
        ck_assert_status(mtask_pool_post(pool, keep_promise, awaited), MTASK_OK);
        return pack((long)mtask_future_get(awaited, NULL, MTASK_FOREVER));
    }
    ck_assert_status(mtask_pool_submit(pool, plus_one, pack(1), &awaited), MTASK_OK);
    status = mtask_future_get(awaited, NULL, MTASK_MS(30));
    mtask_future_release(awaited);
    return pack((long)status);
}

static void check_without_threads(point at, int error, mtask_future *promise) {
    mtask_pool *pool = open_pool(1);
    mtask_future *future = NULL;
    mtask_status status;
    arm_everywhere(at, 1, LONG_MAX, error);
    ck_assert_status(mtask_pool_submit(pool, wait_for_another_thread, promise, &future), MTASK_OK);
    status = (mtask_status)take(future);
    ck_assert_int_ge(disarm(at), 1);
    ck_assert_status(status, promise != NULL ? MTASK_DEADLOCK : MTASK_TIMEOUT);
    if (promise != NULL)
        ck_assert_status(mtask_future_get(promise, NULL, MTASK_FOREVER), MTASK_OK); /* by then */
    check_usable(pool);
    ck_assert_status(mtask_pool_destroy(pool), MTASK_OK);
    mtask_future_release(promise);
    check_nothing_left();
}

START_TEST(a_wait_for_which_no_thread_can_be_started_does_not_hang) {
    for (int i = 0; i < 2; i++) {
        int error = i == 0 ? EAGAIN : ENOMEM;
        check_without_threads(AT_THREAD, error, make_promise());
        check_without_threads(AT_THREAD, error, NULL);
        check_without_threads(AT_ATTR, error, make_promise());
        check_without_threads(AT_ATTR, error, NULL);
    }
}
END_TEST

/* If threads cannot be started for a while only, who waits meanwhile gets what it waits for. */
START_TEST(a_thread_that_could_not_be_started_is_started_later) {
    mtask_pool *pool = open_pool(2);
    mtask_future *promise = make_promise();
    mtask_future *waiter = NULL;
    mtask_status status;
    mtask_event_clear(&gate);
    ck_assert_status(mtask_pool_post(pool, pass_gate, NULL), MTASK_OK);
    ck_assert_status(mtask_pool_submit(pool, wait_for_another_thread, NULL, &waiter), MTASK_OK);
    ck_assert_int_eq(take(waiter), MTASK_OK); /* so it can */
    arm_everywhere(AT_THREAD, 1, LONG_MAX, EAGAIN);
    ck_assert_status(mtask_pool_post(pool, pass_gate, NULL), MTASK_OK);
    ck_assert_status(mtask_pool_post(pool, keep_promise, promise), MTASK_OK);
    testing_pause(5);
    (void)disarm(AT_THREAD);
    unplug();
    status = mtask_future_get(promise, NULL, MTASK_FOREVER);
    ck_assert_status(status, MTASK_OK);
    mtask_future_release(promise);
    check_usable(pool);
    ck_assert_status(mtask_pool_destroy(pool), MTASK_OK);
    check_nothing_left();
}
END_TEST

/* ---- sleeps that are refused to the caller ---- */

/* Opens the gate when it must have been seen that it is closed. */
static void open_gate_later(testing_member *self) {
    testing_pause(20);
    unplug();
    (void)self;
}

/* Of these calls the contract allows MTASK_SYSTEM: nothing has happened then, and later it works. */
static mtask_future *plugged_future;
static mtask_group plugged_group;
static mtask_imap *plugged_imap;
static mtask_completed *plugged_completed;
static mtask_pool *plugged_pool;

static mtask_status get_plugged(int64_t timeout) {
    return mtask_future_get(plugged_future, NULL, timeout);
}

static mtask_status wait_for_plugged_group(int64_t timeout) {
    return mtask_group_wait(&plugged_group, NULL, timeout);
}

static mtask_status next_of_plugged_imap(int64_t timeout) {
    mtask_item item;
    return mtask_imap_next(plugged_imap, &item, timeout);
}

static mtask_status next_of_plugged_completed(int64_t timeout) {
    mtask_future *future;
    return mtask_completed_next(plugged_completed, &future, NULL, timeout);
}

static mtask_status submit_to_full(int64_t timeout) {
    const mtask_task_desc desc = {.fn = plus_one};
    return mtask_pool_submit_ex(plugged_pool, &desc, NULL, timeout);
}

static mtask_status join_plugged(int64_t timeout) {
    ck_assert_status(mtask_pool_close(plugged_pool), MTASK_OK);
    return mtask_pool_join(plugged_pool, timeout);
}

typedef struct refused_wait {
    mtask_status (*wait)(int64_t timeout);
    mtask_status too_late; /* when its time is up */
} refused_wait;

static const refused_wait refused_waits[] = {
    {get_plugged, MTASK_TIMEOUT},          {wait_for_plugged_group, MTASK_TIMEOUT},
    {next_of_plugged_imap, MTASK_TIMEOUT}, {next_of_plugged_completed, MTASK_TIMEOUT},
    {submit_to_full, MTASK_FULL},          {join_plugged, MTASK_TIMEOUT}};

#define REFUSED_WAITS ((int)(sizeof refused_waits / sizeof refused_waits[0]))

/* Fills a pool, whose worker is held up, with what can be waited for. */
static void open_plugged(long *next, bool iterates) {
    mtask_pool_desc desc = {.workers = 1, .backlog = 4};
    mtask_imap_desc imap = {.fn = square, .input = pull, .ctx = next, .ahead = 2};
    imap.in_size = imap.out_size = sizeof(long);
    ck_assert_status(mtask_pool_create(&plugged_pool, &desc), MTASK_OK);
    plug(plugged_pool);
    ck_assert_status(mtask_pool_submit(plugged_pool, plus_one, pack(1), &plugged_future), MTASK_OK);
    ck_assert_status(mtask_group_init(&plugged_group, plugged_pool, 0), MTASK_OK);
    ck_assert_status(mtask_group_post(&plugged_group, plus_one, NULL), MTASK_OK);
    plugged_imap = NULL;
    if (iterates)
        ck_assert_status(mtask_pool_imap(plugged_pool, &imap, &plugged_imap), MTASK_OK);
    ck_assert_status(mtask_as_completed(&plugged_future, 1, &plugged_completed), MTASK_OK);
    while (stats_of(plugged_pool).pending < 4)
        ck_assert_status(mtask_pool_post(plugged_pool, plus_one, NULL), MTASK_OK);
}

static void close_plugged(void) {
    mtask_imap_close(plugged_imap);
    mtask_completed_close(plugged_completed);
    mtask_future_release(plugged_future);
    ck_assert_status(mtask_pool_destroy(plugged_pool), MTASK_OK);
    check_nothing_left();
}

static void check_refused(const refused_wait *wait, point at, int error, int64_t timeout) {
    mtask_status status;
    long next = 0;
    open_plugged(&next, wait->wait != join_plugged); /* an open iterator is something to do */
    arm_where(at, HERE, 1, LONG_MAX, error);
    errno = 0;
    ck_assert_status(wait->wait(timeout), MTASK_SYSTEM);
    ck_assert_int_eq(errno, error);
    if (at == AT_CLOCK)
        ck_assert_status(wait->wait(MTASK_NOWAIT), wait->too_late);
    ck_assert_int_ge(disarm(at), 1);
    ck_assert_status(wait->wait(MTASK_US(50)), wait->too_late);
    unplug();
    status = wait->wait(MTASK_FOREVER);
    ck_assert_status(status, MTASK_OK);
    close_plugged();
}

START_TEST(a_refused_sleep_is_told_and_changes_nothing) {
    check_refused(&refused_waits[_i], AT_WAIT, EINVAL, MTASK_FOREVER);
    check_refused(&refused_waits[_i], AT_WAIT, ENOSYS, MTASK_SEC(60));
}
END_TEST

START_TEST(a_timed_wait_without_a_clock_is_told_and_changes_nothing) {
    check_refused(&refused_waits[_i], AT_CLOCK, EINVAL, MTASK_SEC(60));
}
END_TEST

/* The contract of these has no such answer, or what they wait for is in the caller's memory: they
   must come to their end though they cannot sleep. */
static void check_persistent(action act) {
    mtask_pool *pool = open_pool(2);
    testing_crowd crowd;
    plug(pool);
    arm_where(AT_WAIT, HERE, 1, LONG_MAX, EINVAL);
    testing_crowd_start(&crowd, 1, open_gate_later, NULL);
    ck_assert_status(act(pool), MTASK_OK);
    ck_assert_int_ge(disarm(AT_WAIT), 1);
    testing_crowd_join(&crowd);
}

static mtask_status destroy(mtask_pool *pool) {
    return mtask_pool_destroy(pool);
}

START_TEST(destroy_ends_though_it_cannot_sleep) {
    check_persistent(destroy);
    check_nothing_left();
}
END_TEST

static void square_behind_gate(const void *in, void *out, void *ctx) {
    pass_gate(NULL);
    square(in, out, ctx);
}

static mtask_status map_behind_gate(mtask_pool *pool) {
    long in[ITEMS], out[ITEMS];
    mtask_status statuses[ITEMS];
    mtask_map_desc map = describe_map(in, out, statuses);
    mtask_outcome outcome;
    mtask_status status;
    map.fn = square_behind_gate;
    status = mtask_pool_map(pool, &map, &outcome);
    ck_assert_int_eq(look(&inside), 0);
    ck_assert_status(status, MTASK_FAILED); /* one item does */
    check_map(out, statuses, &outcome);
    return destroy(pool);
}

static void count_behind_gate(size_t begin, size_t end, void *ctx) {
    pass_gate(NULL);
    count_indices(begin, end, ctx);
}

static mtask_status loop_behind_gate(mtask_pool *pool) {
    counted = 0;
    ck_assert_status(mtask_pool_for(pool, 0, 50, count_behind_gate, NULL), MTASK_OK);
    ck_assert_int_eq(look(&counted), 50);
    return destroy(pool);
}

static mtask_status close_behind_gate(mtask_pool *pool) {
    long next = 0;
    mtask_imap_desc desc = {.fn = square_behind_gate, .input = pull, .ctx = &next};
    mtask_imap *imap = NULL;
    desc.in_size = desc.out_size = sizeof(long);
    ck_assert_status(mtask_pool_imap(pool, &desc, &imap), MTASK_OK);
    mtask_imap_close(imap);
    ck_assert_int_eq(look(&inside), 0);
    return destroy(pool);
}

START_TEST(maps_and_loops_end_though_they_cannot_sleep) {
    check_persistent(map_behind_gate);
    check_persistent(loop_behind_gate);
    check_persistent(close_behind_gate);
    check_nothing_left();
}
END_TEST

static mtask_status fork_behind_gate(mtask_pool *pool) {
    mtask_job job;
    void *value = NULL;
    ck_assert_status(mtask_job_spawn(&job, pass_gate, pack(3)), MTASK_OK);
    while (!mtask_event_is_set(&gate)) /* a worker of the default pool has it by then */
        sched_yield();
    ck_assert_status(mtask_job_sync(&job, &value), MTASK_OK);
    ck_assert_int_eq(unpack(value), 3);
    return destroy(pool);
}

static mtask_status fork_and_sync_behind_gate(mtask_pool *pool) {
    mtask_job job;
    void *value = NULL;
    mtask_pool *shared;
    ck_assert_status(mtask_pool_default(&shared), MTASK_OK);
    ck_assert_status(mtask_job_spawn(&job, pass_gate, pack(3)), MTASK_OK);
    while (stats_of(shared).pending != 0)
        sched_yield();
    ck_assert_status(mtask_job_sync(&job, &value), MTASK_OK);
    ck_assert_int_eq(unpack(value), 3);
    return destroy(pool);
}

START_TEST(a_sync_ends_though_it_cannot_sleep) {
    (void)fork_behind_gate;
    check_persistent(fork_and_sync_behind_gate);
}
END_TEST

/* ---- sleeps and clocks that are refused to the workers ---- */

/* With tasks that do not wait for others: those would be told that they cannot. */
static void work_a_little(mtask_pool *pool) {
    static const action acts[] = {
        submit_many,      submit_described,     fill_group,    map_some, map_async,
        iterate_in_order, iterate_in_any_order, loop,          reduce,   loop_in_worker,
        iterate_a_little, submit_failing,       fork_in_worker};
    for (size_t i = 0; i < sizeof acts / sizeof acts[0]; i++) {
        plug(pool);
        ck_assert_status(acts[i](pool), MTASK_OK);
        while (stats_of(pool).running != 0)
            sched_yield();
    }
}

START_TEST(workers_that_cannot_sleep_for_a_while_work_on) {
    for (long first = 1; first < 40; first += 7) {
        mtask_pool *pool = open_pool(2);
        arm_where(AT_WAIT, ELSEWHERE, first, 20, EINVAL);
        work_a_little(pool);
        testing_pause(2);
        work_a_little(pool);
        (void)disarm(AT_WAIT);
        work_a_little(pool);
        ck_assert_status(mtask_pool_destroy(pool), MTASK_OK);
        check_nothing_left();
    }
}
END_TEST

START_TEST(workers_without_a_clock_work_on) {
    for (long first = 1; first < 4; first++) {
        mtask_pool *pool;
        arm_everywhere(AT_CLOCK, first, LONG_MAX, EINVAL);
        pool = open_pool(2);
        work_a_little(pool);
        ck_assert_status(mtask_pool_destroy(pool), MTASK_OK);
        ck_assert_int_ge(disarm(AT_CLOCK), 0);
        check_nothing_left();
    }
}
END_TEST

/* ---- systems without a fence for all threads ---- */

static void *count_leaves_of(void *arg) {
    return count_leaves(arg);
}

static void check_trees(void) {
    long rounds = testing_scale(100);
    int64_t start = mtask_now();
    for (unsigned workers = 1; workers <= 4; workers++) {
        mtask_pool *pool = open_pool(workers);
        for (long i = 0; i < rounds && (i < 3 || testing_has_time(start)); i++) {
            mtask_future *futures[3];
            for (int j = 0; j < 3; j++)
                ck_assert_status(mtask_pool_submit(pool, count_leaves_of, pack(10), &futures[j]),
                                 MTASK_OK);
            for (int j = 0; j < 3; j++)
                ck_assert_int_eq(take(futures[j]), 1024);
        }
        check_usable(pool);
        ck_assert_status(mtask_pool_destroy(pool), MTASK_OK);
    }
    check_nothing_left();
}

START_TEST(without_membarrier_jobs_are_done_once) {
    arm_everywhere(AT_BARRIER, 1, LONG_MAX, _i == 0 ? ENOSYS : EPERM);
    check_trees();
    (void)disarm(AT_BARRIER);
}
END_TEST

START_TEST(with_membarrier_jobs_are_done_once) {
    check_trees();
}
END_TEST

static void add_loop(TCase *tcase, const TTest *test, int count) {
    tcase_add_loop_test(tcase, test, 0, count);
}

int main(void) {
    const TTest *const tests[] = {a_pool_without_memory_leaves_nothing,
                                  a_pool_without_threads_leaves_nothing,
                                  a_pool_cannot_be_larger_than_the_system_allows,
                                  a_default_pool_that_cannot_be_made_leaves_nothing,
                                  a_task_without_memory_is_refused,
                                  posting_needs_memory_only_for_a_longer_backlog,
                                  a_described_task_without_memory_is_refused,
                                  a_task_that_fails_without_memory_keeps_its_status,
                                  a_group_without_memory_counts_what_it_has,
                                  a_map_without_memory_is_done_or_refused,
                                  an_iterator_without_memory_is_refused_or_comes_to_its_end,
                                  a_loop_without_memory_is_done_or_refused,
                                  waits_and_callbacks_without_memory_are_refused,
                                  tasks_without_memory_are_refused_what_others_are,
                                  tasks_that_wait_without_memory_are_refused_what_others_are,
                                  jobs_need_no_memory,
                                  a_wait_for_which_no_thread_can_be_started_does_not_hang,
                                  a_thread_that_could_not_be_started_is_started_later,
                                  destroy_ends_though_it_cannot_sleep,
                                  maps_and_loops_end_though_they_cannot_sleep,
                                  a_sync_ends_though_it_cannot_sleep,
                                  workers_that_cannot_sleep_for_a_while_work_on,
                                  workers_without_a_clock_work_on,
                                  with_membarrier_jobs_are_done_once};
    Suite *suite = testing_suite("pool_failure", tests, sizeof tests / sizeof tests[0]);
    TCase *tcase = tcase_create("each");
    int users = (int)(sizeof users_of_default / sizeof users_of_default[0]);
    tcase_set_timeout(tcase, TEST_TIMEOUT);
    add_loop(tcase, the_default_pool_is_made_when_it_can_be, users);
    add_loop(tcase, the_default_pool_is_made_when_there_are_threads, users);
    add_loop(tcase, jobs_of_who_is_no_worker_are_done_whatever_fails, 2);
    add_loop(tcase, a_refused_sleep_is_told_and_changes_nothing, REFUSED_WAITS);
    add_loop(tcase, a_timed_wait_without_a_clock_is_told_and_changes_nothing, REFUSED_WAITS);
    add_loop(tcase, without_membarrier_jobs_are_done_once, 2);
    suite_add_tcase(suite, tcase);
    return testing_main(suite);
}
