/* test_mtask_coro_failure.c - coroutines and loops when the system refuses memory, address space,
   descriptors, waits, clocks or threads
// standalone: it holds the implementation itself, with the calls of the system that may fail
   replaced by ones that fail when they are told to. */
#define _GNU_SOURCE 1
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <linux/futex.h>

#if defined(MTASK_FORCE_POSIX) || defined(MTASK_LOOP_POLL)
# define USES_EPOLL 0
#else
# define USES_EPOLL 1
#endif

/* ---- where failures can be injected ---- */

typedef enum point {
    AT_MEMORY,
    AT_MAP,     /* mmap */
    AT_UNMAP,   /* munmap */
    AT_PROTECT, /* mprotect */
    AT_GUARD,   /* madvise that installs a guard */
    AT_ADVISE,  /* any other madvise */
    AT_THREAD,  /* pthread_create */
    AT_WAIT,    /* a futex wait; without futex, what a wait needs of pthread */
    AT_WAITV,   /* a wait on several futexes */
    AT_CLOCK,   /* clock_gettime */
    AT_EPOLL,   /* epoll_create1 */
    AT_ADD,     /* epoll_ctl */
    AT_POLL,    /* the wait for descriptors: epoll_wait, poll, ppoll */
    AT_POLL_NS, /* the one with nanoseconds: epoll_pwait2 */
    AT_EVENT,   /* eventfd */
    AT_PIPE,    /* pipe2 */
    AT_TIMER,   /* timerfd_create */
    AT_SET,     /* timerfd_settime */
    AT_READ,
    AT_WRITE,
    AT_FLAGS, /* fcntl */
    POINTS
} point;

#include "testing_inject.h"

static long live_blocks; /* of memory */
static long live_bytes;  /* mapped */
static long calls_of[POINTS];

/* Whether this call at `at` has to fail; then errno says why. */
static bool fails(point at) {
    bool failed = fails_at(at);
    add(&calls_of[at], 1);
    if (failed)
        errno = error_at(at);
    return failed;
}

/* ---- the replaced calls; which of them are made depends on the configuration ---- */

#define FAKE static __attribute__((unused))

FAKE void *fake_realloc(void *memory, size_t size) {
    void *block = fails(AT_MEMORY) ? NULL : realloc(memory, size);
    add(&live_blocks, memory == NULL && block != NULL);
    return block;
}

FAKE void *fake_malloc(size_t size) {
    return fake_realloc(NULL, size);
}

FAKE void fake_free(void *memory) {
    add(&live_blocks, -(memory != NULL));
    free(memory);
}

FAKE void *fake_mmap(void *at, size_t size, int protection, int flags, int fd, off_t offset) {
    void *memory = fails(AT_MAP) ? MAP_FAILED : mmap(at, size, protection, flags, fd, offset);
    if (memory != MAP_FAILED)
        add(&live_bytes, (long)size);
    return memory;
}

FAKE int fake_munmap(void *memory, size_t size) {
    if (fails(AT_UNMAP))
        return -1;
    add(&live_bytes, -(long)size);
    return munmap(memory, size);
}

FAKE int fake_mprotect(void *memory, size_t size, int protection) {
    return fails(AT_PROTECT) ? -1 : mprotect(memory, size, protection);
}

FAKE int fake_madvise(void *memory, size_t size, int advice) {
    return fails(advice == 102 ? AT_GUARD : AT_ADVISE) ? -1 : madvise(memory, size, advice);
}

FAKE int fake_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*fn)(void *arg),
                             void *arg) {
    return fails(AT_THREAD) ? errno : pthread_create(thread, attr, fn, arg);
}

FAKE int fake_cond_init(pthread_cond_t *cond, const pthread_condattr_t *attr) {
    return fails(AT_WAIT) ? errno : pthread_cond_init(cond, attr);
}

FAKE int fake_clock_gettime(clockid_t clock, struct timespec *time) {
    return fails(AT_CLOCK) ? -1 : clock_gettime(clock, time);
}

FAKE int fake_epoll_create1(int flags) {
    return fails(AT_EPOLL) ? -1 : epoll_create1(flags);
}

FAKE int fake_epoll_ctl(int epoll, int operation, int fd, struct epoll_event *event) {
    return fails(AT_ADD) ? -1 : epoll_ctl(epoll, operation, fd, event);
}

FAKE int fake_epoll_wait(int epoll, struct epoll_event *events, int most, int timeout) {
    return fails(AT_POLL) ? -1 : epoll_wait(epoll, events, most, timeout);
}

FAKE int fake_poll(struct pollfd *fds, nfds_t count, int timeout) {
    return fails(AT_POLL) ? -1 : poll(fds, count, timeout);
}

FAKE int fake_ppoll(struct pollfd *fds, nfds_t count, const struct timespec *timeout,
                    const sigset_t *mask) {
    return fails(AT_POLL) ? -1 : ppoll(fds, count, timeout, mask);
}

FAKE int fake_eventfd(unsigned value, int flags) {
    return fails(AT_EVENT) ? -1 : eventfd(value, flags);
}

FAKE int fake_pipe2(int *ends, int flags) {
    return fails(AT_PIPE) ? -1 : pipe2(ends, flags);
}

FAKE int fake_pipe(int *ends) {
    return fails(AT_PIPE) ? -1 : pipe(ends);
}

FAKE int fake_fcntl(int fd, int command, int argument) {
    return fails(AT_FLAGS) ? -1 : fcntl(fd, command, argument);
}

FAKE int fake_timerfd_create(int clock, int flags) {
    return fails(AT_TIMER) ? -1 : timerfd_create((clockid_t)clock, flags);
}

FAKE int fake_timerfd_settime(int fd, int flags, const struct itimerspec *time,
                              struct itimerspec *old) {
    return fails(AT_SET) ? -1 : timerfd_settime(fd, flags, time, old);
}

FAKE ssize_t fake_read(int fd, void *buffer, size_t size) {
    return fails(AT_READ) ? -1 : read(fd, buffer, size);
}

FAKE ssize_t fake_write(int fd, const void *buffer, size_t size) {
    return fails(AT_WRITE) ? -1 : write(fd, buffer, size);
}

/* Which point a system call is made at; POINTS: none. */
FAKE point point_of(long number, long operation) {
    bool futex = number == SYS_futex;
#ifdef SYS_futex_time64
    futex = futex || number == SYS_futex_time64;
#endif
    operation &= FUTEX_CMD_MASK;
    if (futex && (operation == FUTEX_WAIT || operation == FUTEX_WAIT_BITSET))
        return AT_WAIT;
    if (number == 449) /* futex_waitv, on every architecture */
        return AT_WAITV;
    return number == 441 ? AT_POLL_NS : POINTS; /* epoll_pwait2 */
}

FAKE long fake_syscall(long number, ...) {
    long a[6];
    point at;
    va_list args;
    va_start(args, number);
    for (int i = 0; i < 6; i++)
        a[i] = va_arg(args, long);
    va_end(args);
    at = point_of(number, a[1]);
    if (at != POINTS && fails(at))
        return -1;
    return syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

/* ---- the implementation, on top of them ---- */

#define MTASK_MALLOC(size)                  fake_malloc(size)
#define MTASK_REALLOC(p, size)              fake_realloc((p), (size))
#define MTASK_FREE(p)                       fake_free(p)
#define mmap(p, n, protection, flags, f, o) fake_mmap(p, n, protection, flags, f, o)
#define munmap(p, n)                        fake_munmap(p, n)
#define mprotect(p, n, protection)          fake_mprotect(p, n, protection)
#define madvise(p, n, advice)               fake_madvise(p, n, advice)
#define pthread_create                      fake_pthread_create
#define clock_gettime                       fake_clock_gettime
#define epoll_create1                       fake_epoll_create1
#define epoll_ctl                           fake_epoll_ctl
#define epoll_wait                          fake_epoll_wait
#define poll(fds, n, timeout)               fake_poll(fds, n, timeout)
#define ppoll                               fake_ppoll
#define eventfd                             fake_eventfd
#define pipe2                               fake_pipe2
#define pipe(ends)                          fake_pipe(ends)
#define fcntl(fd, command, argument)        fake_fcntl(fd, command, argument)
#define timerfd_create                      fake_timerfd_create
#define timerfd_settime                     fake_timerfd_settime
#define read(fd, buffer, n)                 fake_read(fd, buffer, n)
#define write(fd, buffer, n)                fake_write(fd, buffer, n)
#define syscall                             fake_syscall
#ifdef MTASK_FORCE_POSIX
# define pthread_cond_init fake_cond_init
#endif
#define MTASK_IMPLEMENTATION
#include "../mtask_coro.h"
#include "../mtask_queue.h"
#undef mmap
#undef munmap
#undef mprotect
#undef madvise
#undef pthread_create
#undef clock_gettime
#undef epoll_create1
#undef epoll_ctl
#undef epoll_wait
#undef poll
#undef ppoll
#undef eventfd
#undef pipe2
#undef pipe
#undef fcntl
#undef timerfd_create
#undef timerfd_settime
#undef read
#undef write
#undef syscall
#undef pthread_cond_init

#include "testing_coro.h"

/* ---- what must balance ---- */

/* How many descriptors the process has. */
static long open_descriptors(void) {
    DIR *all = opendir("/proc/self/fd");
    long count = 0;
    ck_assert_ptr_nonnull(all);
    while (readdir(all) != NULL)
        count++;
    closedir(all);
    return count;
}

typedef struct balance {
    long blocks;
    long bytes;
    long descriptors;
    size_t stacks;
} balance;

static balance take_balance(void) {
    balance now = {look(&live_blocks), look(&live_bytes), open_descriptors(),
                   mtask_coro_stacks().in_use};
    return now;
}

/* Nothing is left of what came since. */
static void check_balance(const balance *before) {
    balance now = take_balance();
    ck_assert_int_eq(now.blocks, before->blocks);
    ck_assert_int_eq(now.bytes, before->bytes);
    ck_assert_int_eq(now.descriptors, before->descriptors);
    ck_assert_uint_eq(now.stacks, before->stacks);
}

/* ---- coroutines that cannot be made ---- */

/* A coroutine that yields once, and uses some stack. */
static void *yield_and_return(void *arg) {
    char text[100];
    snprintf(text, sizeof text, "%p", arg);
    testing_check(mtask_coro_yield(arg, NULL) == MTASK_OK);
    return text[0] != '\0' ? arg : NULL;
}

/* It does what it should, whatever was refused before. */
static void check_coro(mtask_coro *coro) {
    ck_assert_int_eq(resume_for(coro, 0, MTASK_OK), 7);
    ck_assert_int_eq(resume_for(coro, 0, MTASK_DONE), 7);
    end_coro(coro);
}

/* Returns how many calls at `at` can keep a first coroutine from being made. */
static long fail_create(point at, long number, int error) {
    for (long first = 1;; first++) {
        mtask_coro *coro = (mtask_coro *)&first;
        balance before = take_balance();
        mtask_status status;
        arm(at, first, number, error);
        errno = 12345;
        status = mtask_coro_create(&coro, yield_and_return, (void *)7);
        if (disarm(at) == 0 || status == MTASK_OK) {
            ck_assert_status(status, MTASK_OK);
            check_coro(coro);
            return first - 1;
        }
        ck_assert_status(status, MTASK_NOMEM);
        ck_assert_ptr_null(coro);
        if (at == AT_MAP) /* as after any call that does not answer MTASK_SYSTEM */
            ck_assert_int_eq(errno, 12345);
        check_balance(&before);
        ck_assert_uint_eq(mtask_coro_stacks().reserved, 0);
        ck_assert_int_lt(first, 100);
    }
}

START_TEST(a_coroutine_without_memory_is_not_made) {
    ck_assert_int_ge(fail_create(AT_MEMORY, 1, 0), 1);
}
END_TEST

START_TEST(a_coroutine_without_any_memory_is_not_made) {
    ck_assert_int_ge(fail_create(AT_MEMORY, LONG_MAX, 0), 1);
}
END_TEST

START_TEST(a_coroutine_without_address_space_is_not_made) {
    ck_assert_int_ge(fail_create(AT_MAP, LONG_MAX, ENOMEM), 1);
}
END_TEST

/* Where a large slab is refused, a smaller one does. */
START_TEST(slabs_are_as_small_as_they_must_be) {
    size_t before = SIZE_MAX;
    for (long refused = 0, hits;; refused++) {
        mtask_coro_desc desc = {.fn = yield_and_return, .arg = (void *)7};
        mtask_coro *coro = NULL;
        size_t reserved = mtask_coro_stacks().reserved;
        mtask_status status;
        desc.stack_size = (size_t)32768 << refused; /* of each size there is none yet */
        arm(AT_MAP, 1, refused, ENOMEM);
        status = mtask_coro_create_ex(&coro, &desc);
        hits = disarm(AT_MAP);
        if (status != MTASK_OK) {
            ck_assert_status(status, MTASK_NOMEM);
            break;
        }
        ck_assert_int_eq(hits, refused);
        check_coro(coro);
        reserved = mtask_coro_stacks().reserved - reserved;
        ck_assert_uint_ge(reserved, desc.stack_size);
        ck_assert_uint_lt(reserved, before);
        before = reserved;
    }
    ck_assert_uint_lt(before, 4 << 20);
}
END_TEST

START_TEST(pages_may_be_huge_if_nothing_can_be_said_against_it) {
    arm(AT_ADVISE, 1, LONG_MAX, EINVAL);
    check_coro(open_coro(yield_and_return, (void *)7));
    (void)disarm(AT_ADVISE);
}
END_TEST

/* ---- guards ---- */

/* Uses more stack than there is. */
static __attribute__((noinline)) long overflow(long depth) {
    volatile char frame[500];
    frame[depth % 500] = (char)depth;
    return depth < 1000000 ? overflow(depth + 1) + frame[depth % 500] : 0;
}

static void *overflow_it(void *arg) {
    return (void *)overflow((long)arg);
}

/* Overflows a coroutine's stack in a child, which that must end; what it says goes nowhere. */
static void check_guarded(mtask_coro *coro) {
    int status = 0;
    pid_t pid;
    fflush(NULL);
    pid = fork();
    if (pid == 0) {
        struct rlimit none = {0, 0};
        (void)setrlimit(RLIMIT_CORE, &none);
        (void)close(2);
        signal(SIGSEGV, SIG_DFL);
        (void)mtask_coro_resume(coro, NULL, NULL);
        _exit(0);
    }
    testing_check(pid > 0 && waitpid(pid, &status, 0) == pid);
    testing_check(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
    ck_assert_status(mtask_coro_close(coro), MTASK_OK);
    end_coro(coro);
}

START_TEST(guards_are_mappings_where_they_cannot_be_less) {
    arm(AT_GUARD, 1, LONG_MAX, EINVAL);
    for (long i = 0; i < 5; i++)
        check_guarded(open_coro(overflow_it, NULL));
    ck_assert_int_ge(look(&calls_of[AT_PROTECT]), 1);
    ck_assert_uint_eq(mtask_coro_stacks().unguarded, 0);
    (void)disarm(AT_GUARD);
    check_guarded(open_coro(overflow_it, NULL));
}
END_TEST

/* Where the system can make no more guards, coroutines go without and are counted. */
START_TEST(stacks_without_guards_are_counted) {
    mtask_coro *coros[10];
    errno = 12345;
    for (size_t i = 0; i < 10; i++) {
        bool refused = i % 3 == 2;
        size_t before = mtask_coro_stacks().unguarded;
        arm(AT_GUARD, 1, refused ? LONG_MAX : 0, EINVAL);
        arm(AT_PROTECT, 1, refused ? LONG_MAX : 0, ENOMEM);
        coros[i] = open_coro(yield_and_return, (void *)7);
        (void)disarm(AT_GUARD);
        (void)disarm(AT_PROTECT);
        ck_assert_uint_eq(mtask_coro_stacks().unguarded, before + refused);
    }
    ck_assert_int_eq(errno, 12345);
    ck_assert_uint_eq(mtask_coro_stacks().in_use, 10);
    for (size_t i = 0; i < 10; i++)
        check_coro(coros[i]);
    ck_assert_uint_eq(mtask_coro_stacks().in_use, 0);
    ck_assert_uint_eq(mtask_coro_stacks().unguarded, 3);
}
END_TEST

/* How many mappings the process may have. */
static long most_mappings(void) {
    FILE *file = fopen("/proc/sys/vm/max_map_count", "r");
    long most = 65530;
    if (file != NULL) {
        ck_assert_int_eq(fscanf(file, "%ld", &most), 1);
        fclose(file);
    }
    return most;
}

/* More coroutines than there may be mappings for guards: all are made, and the program can still
   map something. */
START_TEST(guards_leave_mappings_to_the_rest_of_the_program) {
    long count = most_mappings() / 4 + 1000;
    mtask_coro **coros = (mtask_coro **)calloc((size_t)count, sizeof(mtask_coro *));
    mtask_coro_desc desc = {.fn = yield_and_return, .arg = (void *)7, .stack_size = 16384};
    mtask_coro_stack_info info;
    if (TESTING_TSAN || TESTING_ASAN || count > 100000) { /* they need mappings of their own */
        free(coros);
        return;
    }
    arm(AT_GUARD, 1, LONG_MAX, EINVAL);
    for (long i = 0; i < count; i++)
        ck_assert_status(mtask_coro_create_ex(&coros[i], &desc), MTASK_OK);
    info = mtask_coro_stacks();
    ck_assert_uint_gt(info.unguarded, 0);
    ck_assert_uint_lt(info.unguarded, (size_t)count);
    for (int i = 0; i < 1000; i++) /* each with rights of its own: none is merged with the next */
        ck_assert_ptr_ne(mmap(NULL, 4096, i % 2 == 0 ? PROT_READ : PROT_NONE,
                              MAP_PRIVATE | MAP_ANONYMOUS, -1, 0),
                         MAP_FAILED);
    for (long i = 0; i < count; i++)
        check_coro(coros[i]);
    (void)disarm(AT_GUARD);
    free(coros);
}
END_TEST

/* ---- slabs ---- */

enum { MANY = 2000 };

static mtask_coro *many[MANY];

/* A stack that a thread cannot promise to give back goes back at once. */
START_TEST(stacks_are_not_kept_without_memory_to_note_it) {
    mtask_coro *coro = open_coro(yield_and_return, (void *)7);
    arm(AT_MEMORY, 1, LONG_MAX, 0);
    check_coro(coro);
    (void)disarm(AT_MEMORY);
    ck_assert_uint_eq(mtask_coro_stacks().in_use, 0);
    ck_assert_uint_eq(mtask_coro_stacks().free, 1);
    check_coro(open_coro(yield_and_return, (void *)7));
    ck_assert_uint_eq(mtask_coro_stacks().free, 1);
}
END_TEST

static void use_one(testing_member *self) {
    (void)self;
    check_coro(open_coro(yield_and_return, (void *)7));
}

/* No key is left by which a thread would hear of its end: then it keeps no stacks. */
START_TEST(stacks_are_not_kept_without_a_key) {
    pthread_key_t key;
    testing_crowd crowd;
    long keys = 0;
    while (pthread_key_create(&key, NULL) == 0)
        keys++;
    ck_assert_int_gt(keys, 0);
    testing_crowd_start(&crowd, 3, use_one, NULL);
    testing_crowd_join(&crowd);
    ck_assert_uint_eq(mtask_coro_stacks().in_use, 0);
    ck_assert_uint_gt(mtask_coro_stacks().free, 0);
}
END_TEST

static void use_many(testing_member *self) {
    long count = testing_scale(MANY / 4);
    mtask_coro **own = &many[self->index * (MANY / 4)];
    for (long i = 0; i < count; i++)
        own[i] = open_coro(yield_and_return, (void *)7);
    for (long i = 0; i < count; i++)
        check_coro(own[i]);
}

START_TEST(threads_give_their_stacks_back) {
    balance before;
    mtask_coro_stack_info info = {0};
    for (int round = 0; round < 4; round++) {
        testing_crowd crowd;
        testing_crowd_start(&crowd, 4, use_many, NULL);
        testing_crowd_join(&crowd);
        ck_assert_uint_eq(mtask_coro_stacks().in_use, 0);
        ck_assert_uint_le(mtask_coro_stacks().free, MANY);
        info = mtask_coro_stacks();
        before = take_balance();
    }
    ck_assert_uint_gt(info.free, 0);
    ck_assert_uint_eq((size_t)before.bytes, info.reserved);
    for (size_t i = 0; i < info.free; i++) /* the main thread finds what they left */
        many[i] = open_coro(yield_and_return, (void *)7);
    ck_assert_uint_eq(mtask_coro_stacks().free, 0);
    for (size_t i = 0; i < info.free; i++)
        check_coro(many[i]);
}
END_TEST

/* Address space that cannot be given back is lost, and that is all. */
START_TEST(slabs_may_fail_to_go) {
    long count = testing_scale(MANY);
    arm(AT_UNMAP, 1, LONG_MAX, ENOMEM);
    for (int round = 0; round < 3; round++) {
        for (long i = 0; i < count; i++)
            many[i] = open_coro(yield_and_return, (void *)7);
        errno = 12345;
        for (long i = 0; i < count; i++)
            check_coro(many[i]);
        ck_assert_int_eq(errno, 12345);
        ck_assert_uint_eq(mtask_coro_stacks().in_use, 0);
    }
    if (disarm(AT_UNMAP) == 0)
        ck_assert_int_lt(count, 2 * MANY / 3); /* so few that all slabs were kept */
}
END_TEST

/* Slabs of which nothing is in use go, but for a few. */
START_TEST(slabs_go_when_they_are_empty) {
    size_t most = 0;
    for (int round = 0; round < 3; round++) {
        long count = testing_scale(MANY);
        for (long i = 0; i < count; i++)
            many[i] = open_coro(yield_and_return, (void *)7);
        if (mtask_coro_stacks().reserved > most)
            most = mtask_coro_stacks().reserved;
        for (long i = 0; i < count; i++)
            check_coro(many[i]);
        ck_assert_int_eq(look(&live_bytes), (long)mtask_coro_stacks().reserved);
    }
    ck_assert_uint_ge(most, (size_t)testing_scale(MANY) * MTASK_CORO_STACK);
    ck_assert_uint_le(mtask_coro_stacks().reserved, (size_t)400 << 20);
}
END_TEST

/* Makes coroutines until there is no more address space, twice; then all still run. */
static int use_up_address_space(void) {
    struct rlimit limit = {(rlim_t)1 << 30, (rlim_t)1 << 30};
    static mtask_coro *coros[5000];
    mtask_status status = MTASK_OK;
    long count = 0;
    if (setrlimit(RLIMIT_AS, &limit) != 0)
        return __LINE__;
    for (int round = 0; round < 2; round++) {
        for (; count < 5000 && status == MTASK_OK; count += status == MTASK_OK)
            status = mtask_coro_create(&coros[count], yield_and_return, (void *)7);
        if (status != MTASK_NOMEM || count < 2000 || count == 5000)
            return __LINE__;
        for (long i = count; i > count - 1000; i--) /* the last ones go, and are made again */
            if (mtask_coro_destroy(coros[i - 1]) != MTASK_OK)
                return __LINE__;
        count -= 1000;
        status = MTASK_OK;
    }
    for (long i = 0; i < count; i++) {
        if (mtask_coro_resume(coros[i], NULL, NULL) != MTASK_OK ||
            mtask_coro_resume(coros[i], NULL, NULL) != MTASK_DONE ||
            mtask_coro_destroy(coros[i]) != MTASK_OK)
            return __LINE__;
    }
    return mtask_coro_stacks().in_use == 0 ? 0 : __LINE__;
}

/* Runs fn in a child; it returns 0, or the line of the check that failed. */
static void run_child(int (*fn)(void)) {
    int status = 0;
    pid_t pid;
    fflush(NULL);
    pid = fork();
    if (pid == 0) {
        int line = fn();
        if (line != 0)
            dprintf(2, "%s:%d: failed in the child\n", __FILE__, line);
        _exit(line != 0);
    }
    ck_assert(pid > 0 && waitpid(pid, &status, 0) == pid);
    ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

START_TEST(address_space_may_run_out) {
    if (!TESTING_TSAN && !TESTING_ASAN) /* they need terabytes of it */
        run_child(use_up_address_space);
}
END_TEST

#ifndef MTASK_CORO_NO_LOOP

/* ---- loops that do a little of everything, while things are refused ---- */

static long begun, ended; /* tasks that were started, and those that have ended */

static void *short_task(void *arg) {
    (void)mtask_yield();
    (void)mtask_sleep(MTASK_US(20)); /* if that is refused, it has not slept */
    add(&ended, 1);
    return arg;
}

/* Starts one, and counts it. */
static mtask_status start_task(mtask_future **future) {
    mtask_future *given = (mtask_future *)&begun;
    mtask_status status = mtask_go(short_task, NULL, future != NULL ? &given : NULL);
    begun += status == MTASK_OK;
    if (future != NULL)
        *future = given;
    if (status != MTASK_OK && future != NULL)
        ck_assert_ptr_null(given);
    return status;
}

/* Returns when all tasks that were started have ended, or are about to be cancelled. */
static void await_tasks(void) {
    while (look(&ended) != begun && mtask_yield() == MTASK_OK) {
    }
}

/* Does something in a task of a loop: MTASK_OK, or the status by which it was refused. */
typedef mtask_status (*action)(void);

static mtask_status do_nothing(void) {
    return MTASK_OK;
}

static mtask_status go_often(void) {
    mtask_future *futures[6] = {NULL};
    mtask_status status = MTASK_OK, got;
    for (int i = 0; i < 6 && status == MTASK_OK; i++)
        status = start_task(i % 2 == 0 ? &futures[i] : NULL);
    for (int i = 0; i < 6; i++)
        if (futures[i] != NULL) {
            got = mtask_future_get(futures[i], NULL, MTASK_FOREVER);
            ck_assert(got == MTASK_OK || mtask_canceled());
            mtask_future_release(futures[i]);
        }
    return status;
}

static mtask_status go_now(void) {
    mtask_future *future = NULL;
    mtask_go_desc desc = {.fn = short_task, .future = &future, .stack_size = 65536, .now = true};
    mtask_status status = mtask_go_ex(&desc);
    begun += status == MTASK_OK;
    await_tasks();
    mtask_future_release(future);
    return status;
}

static mtask_status go_in_group(void) {
    mtask_taskgroup group;
    mtask_status status = MTASK_OK;
    ck_assert_status(mtask_taskgroup_begin(&group), MTASK_OK);
    for (int i = 0; i < 5 && status == MTASK_OK; i++) {
        mtask_future *future = NULL;
        status = mtask_taskgroup_go(&group, short_task, NULL, i % 2 == 0 ? &future : NULL);
        begun += status == MTASK_OK;
        mtask_future_release(future);
    }
    if (mtask_taskgroup_end(&group, NULL) != MTASK_OK)
        ck_assert(mtask_canceled());
    else
        ck_assert_int_eq(look(&ended), begun);
    return status;
}

static mtask_status gather_some(void) {
    mtask_call calls[5] = {{short_task, &begun},
                           {short_task, &begun},
                           {short_task, &begun},
                           {short_task, &begun},
                           {short_task, &begun}};
    mtask_outcome outcomes[5];
    mtask_status status = mtask_gather(calls, 5, outcomes);
    for (int i = 0; i < 5; i++)
        if (outcomes[i].status == MTASK_OK)
            ck_assert_ptr_eq(outcomes[i].value, &begun);
        else
            ck_assert(status != MTASK_OK && outcomes[i].status == MTASK_CANCELED);
    ck_assert_uint_eq(mtask_loop_pending(mtask_loop_current()), 1);
    ended = 0;
    return status;
}

static mtask_event never; /* nobody sets it */

static void *wait_in_vain(void *arg) {
    mtask_status status = mtask_event_wait(&never, MTASK_FOREVER);
    return status == MTASK_CANCELED ? arg : mtask_fail(status, "refused");
}

static mtask_status limit_time(void) {
    mtask_outcome outcome = {.status = MTASK_OK};
    mtask_status status = mtask_with_timeout(MTASK_US(50), wait_in_vain, NULL, &outcome);
    if (status == MTASK_TIMEOUT)
        ck_assert_status(outcome.status, MTASK_OK);
    if (status == MTASK_FAILED)
        return outcome.status;
    return status == MTASK_TIMEOUT ? MTASK_OK : status;
}

static mtask_coro_local own_value;
static long values; /* that have no been destroyed */

static void destroy_value(void *value) {
    add((long *)value, -1);
}

static void *set_value(void *arg) {
    mtask_status status = mtask_coro_local_set(&own_value, &values);
    if (status != MTASK_OK)
        return mtask_fail(status, "refused");
    add(&values, 1);
    ck_assert_ptr_eq(mtask_coro_local_get(&own_value), &values);
    return arg;
}

static mtask_status set_values(void) {
    mtask_status status = MTASK_OK;
    mtask_outcome outcomes[3];
    mtask_call calls[3] = {{set_value, NULL}, {set_value, NULL}, {set_value, NULL}};
    status = mtask_gather(calls, 3, outcomes);
    for (int i = 0; i < 3 && status == MTASK_FAILED; i++)
        if (outcomes[i].status != MTASK_OK && outcomes[i].status != MTASK_CANCELED)
            return outcomes[i].status;
    ck_assert_int_eq(look(&values), 0);
    return status;
}

static mtask_status use_generator(void) {
    mtask_coro *coro = NULL;
    mtask_status status = mtask_coro_create(&coro, yield_and_return, (void *)7);
    if (status == MTASK_OK)
        check_coro(coro);
    return status;
}

/* Waits that end by time: of each object one. */
static mtask_status wait_for_time(void) {
    mtask_mutex mutex = {0};
    mtask_cond cond = {0};
    mtask_sem sem = {0};
    mtask_future *future = NULL;
    mtask_status status = mtask_future_create(&future, NULL);
    if (status != MTASK_OK)
        return status;
    status = mtask_event_wait(&never, MTASK_US(20));
    if (status == MTASK_TIMEOUT)
        status = mtask_sem_acquire(&sem, MTASK_US(20));
    if (status == MTASK_TIMEOUT)
        status = mtask_future_get(future, NULL, MTASK_US(20));
    ck_assert_status(mtask_mutex_lock(&mutex), MTASK_OK);
    if (status == MTASK_TIMEOUT)
        status = mtask_cond_wait(&cond, &mutex, MTASK_US(20));
    if (status == MTASK_TIMEOUT)
        status = mtask_mutex_lock_for(&mutex, MTASK_US(20));
    ck_assert_status(mtask_mutex_unlock(&mutex), MTASK_OK);
    mtask_future_release(future);
    return status == MTASK_TIMEOUT ? MTASK_OK : status;
}

static mtask_status use_queue(void) {
    mtask_queue_desc desc = {.item_size = sizeof(long), .capacity = 2};
    mtask_queue queue;
    long item = 7;
    mtask_status status = mtask_queue_init(&queue, &desc);
    if (status != MTASK_OK)
        return status;
    status = mtask_queue_get(&queue, &item, MTASK_US(20));
    if (status == MTASK_EMPTY)
        status = mtask_queue_put(&queue, &item, MTASK_US(20));
    (void)mtask_queue_close(&queue);
    while (mtask_queue_get(&queue, &item, MTASK_NOWAIT) == MTASK_OK) {
    }
    ck_assert_status(mtask_queue_deinit(&queue), MTASK_OK);
    return status;
}

static mtask_status look_at_tasks(void) {
    mtask_task_info infos[2];
    size_t count = 0;
    mtask_status status = start_task(NULL);
    ck_assert_status(mtask_loop_tasks(mtask_loop_current(), infos, 2, &count), MTASK_OK);
    ck_assert_uint_eq(count, status == MTASK_OK ? 2 : 1);
    return status;
}

static void go_from_outside(testing_member *self) {
    mtask_loop *loop = (mtask_loop *)self->arg;
    for (int i = 0; i < 4 && self->status == MTASK_OK; i++) {
        mtask_future *future = NULL;
        self->status = mtask_loop_go(loop, short_task, NULL, i % 2 == 0 ? &future : NULL);
        self->number += self->status == MTASK_OK;
        mtask_future_release(future);
    }
}

static mtask_status go_from_thread(void) {
    testing_crowd crowd;
    testing_crowd_start(&crowd, 1, go_from_outside, mtask_loop_current());
    while (!testing_has_finished(&crowd.members[0]) && mtask_yield() == MTASK_OK)
        (void)sched_yield();
    testing_crowd_join(&crowd);
    begun += crowd.members[0].number;
    await_tasks();
    return crowd.members[0].status;
}

static const action actions[] = {do_nothing,    go_often,   go_now,        go_in_group,
                                 gather_some,   limit_time, set_values,    use_generator,
                                 wait_for_time, use_queue,  look_at_tasks, go_from_thread};

/* ThreadSanitizer makes a thread, so to speak, of each task: it takes its time for that. */
enum { ACTIONS = sizeof actions / sizeof actions[0], DEPTH = TESTING_TSAN ? 3 : 8 };

static mtask_status refusal;

static void *act(void *arg) {
    refusal = (*(const action *)arg)();
    await_tasks();
    return arg;
}

/* Does it in a loop of its own: MTASK_OK, or the status of whoever was refused. */
static mtask_status perform(action what) {
    mtask_status status;
    begun = ended = 0;
    refusal = MTASK_OK;
    status = mtask_loop_run(act, &what, NULL);
    return status != MTASK_OK ? status : refusal;
}

/* Whatever was refused before, loops do what they should. */
static void check_usable(void) {
    ck_assert_status(perform(go_in_group), MTASK_OK);
    ck_assert_status(perform(wait_for_time), MTASK_OK);
}

/* Does it with `number` failures from the `first` call at `at` on. Returns how many there were, and
   adds to *refusals if it made a difference. */
static long fail_at(point at, long first, long number, int error, action what,
                    mtask_status expected, long *refusals) {
    balance before = take_balance();
    mtask_status status;
    long hits;
    int seen;
    arm(at, first, number, error);
    status = perform(what);
    seen = errno;
    hits = disarm(at);
    *refusals += status != MTASK_OK;
    if (hits == 0 || status != MTASK_OK)
        ck_assert_status(status, hits == 0 ? MTASK_OK : expected);
    if (status == MTASK_SYSTEM && number == LONG_MAX)
        ck_assert_int_eq(seen, error);
    check_balance(&before);
    check_usable();
    check_balance(&before);
    return hits;
}

/* Does each action with the first, the second, ... call failing, and with all from that on, until
   there is none left to fail, or `most` have. Each must be done, or be refused as `expected`, and
   leave nothing behind. Returns how often that made a difference. */
static long fail_each(point at, long most, int error, mtask_status expected) {
    long refusals = 0;
    for (size_t i = 0; i < ACTIONS; i++) {
        ck_assert_status(perform(actions[i]), MTASK_OK); /* the stacks that it takes are there */
        for (long first = 1, hits = 1; hits > 0 && first <= most; first++) {
            hits = fail_at(at, first, 1, error, actions[i], expected, &refusals);
            hits += fail_at(at, first, LONG_MAX, error, actions[i], expected, &refusals);
            ck_assert_int_lt(first, 500);
        }
    }
    return refusals;
}

static void begin_actions(void) {
    ck_assert_status(mtask_coro_local_init(&own_value, destroy_value), MTASK_OK);
    check_usable();
}

START_TEST(what_finds_no_memory_is_refused) {
    begin_actions();
    ck_assert_int_ge(fail_each(AT_MEMORY, LONG_MAX, ENOMEM, MTASK_NOMEM), ACTIONS);
}
END_TEST

/* A task that was started can wait as long as it likes: that takes no memory. */
static void *wait_without_memory(void *arg) {
    for (int i = 0; i < 5; i++) {
        ck_assert_status(mtask_sleep(MTASK_US(10)), MTASK_OK);
        ck_assert_status(mtask_event_wait(&never, MTASK_US(10)), MTASK_TIMEOUT);
    }
    add(&ended, 1);
    return arg;
}

static void *start_waits(void *arg) {
    begun = ended = 0;
    for (; begun < 100; begun++)
        ck_assert_status(mtask_go(wait_without_memory, arg, NULL), MTASK_OK);
    arm(AT_MEMORY, 1, LONG_MAX, ENOMEM);
    (void)wait_without_memory(arg);
    begun++;
    await_tasks();
    (void)disarm(AT_MEMORY);
    return arg;
}

START_TEST(waits_need_no_memory) {
    (void)in_loop(start_waits, NULL);
    ck_assert_int_eq(ended, 101);
}
END_TEST

START_TEST(a_loop_without_descriptors_does_not_begin) {
    begin_actions();
# if USES_EPOLL
    ck_assert_int_ge(fail_each(AT_EPOLL, LONG_MAX, EMFILE, MTASK_SYSTEM), ACTIONS);
    ck_assert_int_ge(fail_each(AT_EVENT, LONG_MAX, ENFILE, MTASK_SYSTEM), ACTIONS);
    ck_assert_int_ge(fail_each(AT_ADD, LONG_MAX, ENOSPC, MTASK_SYSTEM), ACTIONS);
# else
    ck_assert_int_ge(fail_each(AT_PIPE, LONG_MAX, EMFILE, MTASK_SYSTEM), ACTIONS);
    ck_assert_int_ge(fail_each(AT_FLAGS, LONG_MAX, EINVAL, MTASK_SYSTEM), ACTIONS);
# endif
}
END_TEST

/* As arm and disarm, at both kinds of waits for descriptors. */
static void arm_poll(long first, long number, int error) {
    arm(AT_POLL, first, number, error);
    arm(AT_POLL_NS, first, number, error);
}

static long disarm_poll(void) {
    long hits = disarm(AT_POLL);
    return hits + disarm(AT_POLL_NS);
}

/* A wait for descriptors that is interrupted goes on; one with nanoseconds that the system does not
   know, or that is forbidden, is done with milliseconds. */
START_TEST(a_wait_of_the_loop_may_be_interrupted) {
    begin_actions();
    for (size_t i = 0; i < ACTIONS; i++)
        for (long first = 1; first < 4; first++) {
            arm_poll(first, 5, EINTR);
            ck_assert_status(perform(actions[i]), MTASK_OK);
            (void)disarm_poll();
        }
}
END_TEST

# if USES_EPOLL
static void act_without_nanoseconds(int error) {
    arm(AT_POLL_NS, 1, LONG_MAX, error);
    begin_actions();
    for (size_t i = 0; i < ACTIONS; i++)
        ck_assert_status(perform(actions[i]), MTASK_OK);
    /* It is not asked again; and in builds for ThreadSanitizer, which does not know it, never. */
    ck_assert_int_eq(disarm(AT_POLL_NS), !TESTING_TSAN);
    ck_assert_int_ge(look(&calls_of[AT_POLL]), 1);
}

START_TEST(a_wait_of_nanoseconds_may_be_unknown) {
    act_without_nanoseconds(ENOSYS);
}
END_TEST

START_TEST(a_wait_of_nanoseconds_may_be_forbidden) {
    act_without_nanoseconds(EPERM);
}
END_TEST
# endif

/* Must sleep once more when it has been cancelled. */
static void *clean_up_slowly(void *arg) {
    (void)wait_in_vain(arg);
    mtask_shield_begin();
    ck_assert_status(mtask_sleep(MTASK_US(100)), MTASK_OK);
    mtask_shield_end();
    add(&ended, 1);
    return arg;
}

static mtask_status leave_clean_up(void) {
    for (int i = 0; i < 3; i++)
        ck_assert_status(mtask_go(clean_up_slowly, NULL, NULL), MTASK_OK);
    (void)mtask_sleep(MTASK_US(20));
    return MTASK_OK;
}

static void act_without_poll(action what, long first, long number) {
    balance before;
    ck_assert_status(perform(what), MTASK_OK);
    before = take_balance();
    arm_poll(first, number, EINVAL);
    (void)perform(what);
    (void)disarm_poll();
    if (what == leave_clean_up)
        ck_assert_int_eq(look(&ended), 3);
    check_balance(&before);
    check_usable();
    check_balance(&before);
}

/* The wait for descriptors fails, which it should not: no task is lost, none hangs. */
START_TEST(a_loop_that_cannot_wait_ends_its_tasks) {
    begin_actions();
    for (size_t i = 0; i <= ACTIONS; i++)
        for (long first = 1; first < DEPTH; first++)
            act_without_poll(i < ACTIONS ? actions[i] : leave_clean_up, first,
                             first % 2 == 0 ? 1 : LONG_MAX);
}
END_TEST

/* What wakes have written cannot be read: the loop sees them again and again, and works. */
START_TEST(a_loop_need_not_read_its_wakes) {
    static const int errors[] = {EAGAIN, EINTR, EIO};
    begin_actions();
    for (size_t i = 0; i < ACTIONS; i++)
        for (size_t e = 0; e < 3; e++) {
            arm(AT_READ, 1, e == 0 ? LONG_MAX : 2, errors[e]);
            ck_assert_status(perform(actions[i]), MTASK_OK);
            (void)disarm(AT_READ);
        }
    check_usable();
}
END_TEST

/* The clock stops for a call. */
START_TEST(a_clock_that_fails_is_told) {
    long refusals = 0;
    begin_actions();
    for (size_t i = 0; i < ACTIONS; i++)
        for (long first = 1; first < 8; first++) {
            ck_assert_status(perform(actions[i]), MTASK_OK);
            (void)fail_at(AT_CLOCK, first, 1, EINVAL, actions[i], MTASK_SYSTEM, &refusals);
        }
    ck_assert_int_gt(refusals, 0);
}
END_TEST

/* ---- tasks and address space ---- */

/* Takes all the stacks there are, so that the next one needs a new slab. */
static mtask_coro *held[4000];
static size_t holding;

static void hold_stacks(void) {
    for (;;) {
        mtask_coro_stack_info info = mtask_coro_stacks();
        if (info.in_use * MTASK_CORO_STACK == info.reserved)
            break;
        ck_assert_uint_lt(holding, sizeof held / sizeof held[0]);
        held[holding++] = open_coro(yield_and_return, (void *)7);
    }
}

static void release_stacks(void) {
    while (holding > 0)
        check_coro(held[--holding]);
}

START_TEST(tasks_without_address_space_are_refused) {
    static const action those[] = {do_nothing, go_often, go_in_group, gather_some, go_from_thread};
    long refusals = 0, most = TESTING_TSAN ? 1 : 4;
    begin_actions();
    for (size_t i = 0; i < sizeof those / sizeof those[0]; i++)
        for (long n = 1; n <= most; n++) { /* how many sizes of slabs are tried */
            size_t before;
            hold_stacks();
            before = mtask_coro_stacks().in_use;
            arm(AT_MAP, n, LONG_MAX, ENOMEM);
            refusals += perform(those[i]) == MTASK_NOMEM;
            (void)disarm(AT_MAP);
            ck_assert_uint_eq(mtask_coro_stacks().in_use, before);
            check_usable();
        }
    release_stacks();
    ck_assert_int_ge(refusals, 5);
}
END_TEST

/* ---- many tasks, and memory that runs out in their midst ---- */

static void *count_end(void *arg) {
    (void)mtask_yield();
    ended++;
    return arg;
}

/* Starts `count` tasks, and lets others run whenever that is refused; how often it was. */
static long go_many(long count, bool with_futures) {
    long refused = 0;
    while (begun < count) {
        mtask_future *future = NULL;
        mtask_status status = mtask_go(count_end, NULL, with_futures ? &future : NULL);
        mtask_future_release(future);
        begun += status == MTASK_OK;
        if (status == MTASK_OK)
            continue;
        ck_assert_status(status, MTASK_NOMEM);
        ck_assert_ptr_null(future);
        ck_assert_status(mtask_yield(), MTASK_OK);
        refused++;
    }
    return refused;
}

static void *go_many_without_slabs(void *arg) {
    long refused;
    begun = ended = 0;
    arm(AT_MAP, 10, LONG_MAX, ENOMEM); /* from the tenth slab on */
    refused = go_many(*(long *)arg, false);
    (void)disarm(AT_MAP);
    await_tasks();
    ck_assert_int_gt(refused, *(long *)arg / 10000);
    return arg;
}

static void *go_many_without_memory(void *arg) {
    long refused = 0;
    begun = ended = 0;
    for (long step = 1; step <= 50; step++) { /* three of them in a row */
        arm(AT_MEMORY, *(long *)arg / 120, 3, ENOMEM);
        refused += go_many(step * *(long *)arg / 50, true);
        (void)disarm(AT_MEMORY);
    }
    await_tasks();
    ck_assert_int_gt(refused, 0);
    return arg;
}

START_TEST(a_hundred_thousand_tasks_meet_a_lack_of_stacks) {
    long count = TESTING_TSAN ? 1000 : testing_scale(100000);
    (void)in_loop(go_many_without_slabs, &count);
    ck_assert_int_eq(ended, count);
    ck_assert_uint_eq(mtask_coro_stacks().in_use, 0);
}
END_TEST

START_TEST(a_hundred_thousand_tasks_meet_a_lack_of_memory) {
    long count = TESTING_TSAN ? 1000 : testing_scale(100000) + 1000, before;
    (void)in_loop(go_many_without_memory, &count);
    ck_assert_int_eq(ended, count);
    before = look(&live_blocks);
    count = count / 8 + 500;
    (void)in_loop(go_many_without_memory, &count);
    ck_assert_int_eq(ended, count);
    ck_assert_int_le(look(&live_blocks), before + 20); /* more slabs may have been kept */
    ck_assert_uint_eq(mtask_coro_stacks().in_use, 0);
}
END_TEST

/* Starts tasks until there is no more address space, waits for all, and does it again. */
static void *go_beyond(void *arg) {
    begun = ended = 0;
    for (int round = 0; round < 2; round++) {
        long before = begun;
        while (mtask_go(count_end, NULL, NULL) == MTASK_OK)
            begun++;
        if (begun < before + 1000)
            return NULL;
        await_tasks();
    }
    return arg;
}

static int use_up_address_space_by_tasks(void) {
    struct rlimit limit = {(rlim_t)1 << 30, (rlim_t)1 << 30};
    mtask_outcome outcome;
    if (setrlimit(RLIMIT_AS, &limit) != 0)
        return __LINE__;
    if (mtask_loop_run(go_beyond, &limit, &outcome) != MTASK_OK || outcome.value == NULL)
        return __LINE__;
    return mtask_coro_stacks().in_use == 0 && ended == begun ? 0 : __LINE__;
}

START_TEST(tasks_use_up_address_space) {
    if (!TESTING_TSAN && !TESTING_ASAN)
        run_child(use_up_address_space_by_tasks);
}
END_TEST

/* ---- dumps that cannot be written ---- */

static void *dump(void *arg) {
    const int *fds = (const int *)arg;
    char text[2000] = "";
    begun = ended = 0;
    ck_assert_status(start_task(NULL), MTASK_OK);
    arm(AT_WRITE, 1, 3, EINTR);
    ck_assert_status(mtask_loop_dump(mtask_loop_current(), fds[1]), MTASK_OK);
    ck_assert_int_eq(disarm(AT_WRITE), 3);
    ck_assert_int_gt(read(fds[0], text, sizeof text - 1), 0);
    ck_assert_ptr_nonnull(strstr(text, "main"));
    for (long first = 1; first <= 2; first++) {
        arm(AT_WRITE, first, 1, EAGAIN);
        errno = 0;
        ck_assert_status(mtask_loop_dump(mtask_loop_current(), fds[1]), MTASK_SYSTEM);
        ck_assert_int_eq(errno, EAGAIN);
        ck_assert_int_eq(disarm(AT_WRITE), 1);
    }
    errno = 0;
    ck_assert_status(mtask_loop_dump(mtask_loop_current(), -1), MTASK_SYSTEM);
    ck_assert_int_eq(errno, EBADF);
    await_tasks();
    return arg;
}

START_TEST(a_dump_that_cannot_be_written_is_told) {
    int fds[2];
    ck_assert_int_eq(pipe(fds), 0);
    (void)in_loop(dump, fds);
    (void)close(fds[0]);
    (void)close(fds[1]);
}
END_TEST

/* ---- loops in a host's hands ---- */

/* Steps until nothing is left; MTASK_OK, or the first refusal. */
static mtask_status step_to_end(mtask_loop *loop) {
    mtask_status status, first = MTASK_OK;
    do {
        status = mtask_loop_step(loop, MTASK_MS(100));
        if (status != MTASK_OK && status != MTASK_TIMEOUT && status != MTASK_DONE &&
            first == MTASK_OK)
            first = status;
    } while (status != MTASK_DONE);
    return first;
}

static mtask_status host_tasks(void) {
    mtask_loop *loop = (mtask_loop *)&begun;
    mtask_status status = mtask_loop_create(&loop, NULL), stepped;
    int fd = -1;
    if (status != MTASK_OK) {
        ck_assert_ptr_null(loop);
        return status;
    }
    begun = ended = 0;
    status = mtask_loop_fd(loop, &fd);
    for (int i = 0; i < 3 && status == MTASK_OK; i++)
        status = start_task(NULL);
    ck_assert_uint_eq(mtask_loop_pending(loop), (size_t)begun);
    stepped = step_to_end(loop);
    ck_assert_int_eq(look(&ended), begun);
    ck_assert_status(mtask_loop_destroy(loop), MTASK_OK);
    ck_assert_ptr_null(mtask_loop_current());
    return status != MTASK_OK ? status : stepped;
}

static void fail_host(point at, long most, int error, mtask_status expected) {
    long refusals = 0, hits = 1;
    ck_assert_status(host_tasks(), MTASK_OK);
    for (long first = 1; hits > 0 && first <= most; first++) {
        balance before = take_balance();
        mtask_status status;
        int seen;
        arm(at, first, first % 2 == 0 ? 1 : 4, error);
        status = host_tasks();
        seen = errno;
        hits = disarm(at);
        refusals += status != MTASK_OK;
        if (status != MTASK_OK)
            ck_assert_status(status, expected);
        if (status == MTASK_SYSTEM)
            ck_assert_int_eq(seen, error);
        check_balance(&before);
        ck_assert_status(host_tasks(), MTASK_OK);
        check_balance(&before);
    }
    ck_assert_int_gt(refusals, 0);
}

START_TEST(a_hosts_loop_is_refused_or_works) {
    fail_host(AT_MEMORY, LONG_MAX, ENOMEM, MTASK_NOMEM);
# if USES_EPOLL
    fail_host(AT_EPOLL, LONG_MAX, EMFILE, MTASK_SYSTEM);
    fail_host(AT_EVENT, LONG_MAX, EMFILE, MTASK_SYSTEM);
    fail_host(AT_ADD, LONG_MAX, ENOMEM, MTASK_SYSTEM);
    fail_host(AT_TIMER, LONG_MAX, EMFILE, MTASK_SYSTEM);
# else
    fail_host(AT_PIPE, LONG_MAX, EMFILE, MTASK_SYSTEM);
    fail_host(AT_FLAGS, LONG_MAX, EINVAL, MTASK_SYSTEM);
# endif
}
END_TEST

static mtask_loop *open_hosted(void) {
    mtask_loop *loop = NULL;
    int fd;
    ck_assert_status(mtask_loop_create(&loop, NULL), MTASK_OK);
    ck_assert_status(mtask_loop_fd(loop, &fd), MTASK_OK);
    return loop;
}

static void *wait_for_gate(void *arg) {
    ck_assert_status(mtask_event_wait((mtask_event *)arg, MTASK_FOREVER), MTASK_OK);
    return arg;
}

/* A step tells that it cannot wait; the next one goes on. */
START_TEST(a_step_that_cannot_wait_is_told) {
    mtask_loop *loop = open_hosted();
    mtask_event gate = {0};
    ck_assert_status(mtask_go(wait_for_gate, &gate, NULL), MTASK_OK);
    ck_assert_status(mtask_loop_step(loop, MTASK_NOWAIT), MTASK_OK);
    arm_poll(1, 1, EINVAL);
    errno = 0;
    ck_assert_status(mtask_loop_step(loop, MTASK_SEC(1)), MTASK_SYSTEM);
    ck_assert_int_eq(errno, EINVAL);
    ck_assert_int_eq(disarm_poll(), 1);
    arm_poll(1, 3, EINTR); /* that is nothing to tell */
    ck_assert_status(mtask_loop_step(loop, MTASK_MS(1)), MTASK_TIMEOUT);
    ck_assert_int_ge(disarm_poll(), 1);
    mtask_event_set(&gate);
    ck_assert_status(mtask_loop_step(loop, MTASK_SEC(1)), MTASK_DONE);
    ck_assert_status(mtask_loop_destroy(loop), MTASK_OK);
}
END_TEST

/* Nor does it leave tasks behind in the end. */
START_TEST(a_hosts_loop_that_cannot_wait_ends_its_tasks) {
    balance before = take_balance();
    for (int round = 0; round < 3; round++) {
        mtask_loop *loop = open_hosted();
        ended = 0;
        for (int i = 0; i < 3; i++)
            ck_assert_status(mtask_go(clean_up_slowly, NULL, NULL), MTASK_OK);
        ck_assert_status(mtask_loop_step(loop, MTASK_NOWAIT), MTASK_OK);
        arm_poll(1, LONG_MAX, EINVAL);
        (void)mtask_loop_destroy(loop);
        (void)disarm_poll();
        ck_assert_int_eq(look(&ended), 3);
        if (round == 1)
            before = take_balance();
    }
    check_balance(&before);
}
END_TEST

/* ---- objects between processes ---- */

# ifndef MTASK_FORCE_POSIX

static mtask_event shared;
static mtask_mutex shared_mutex;

/* Waits for what nobody does; how that ended. */
static void *wait_on_shared(void *arg) {
    *(mtask_status *)arg = mtask_event_wait(&shared, MTASK_MS(1));
    return arg;
}

static mtask_status try_shared(void) {
    mtask_status waited = MTASK_INVALID;
    mtask_status status = mtask_loop_run(wait_on_shared, &waited, NULL);
    return status != MTASK_OK ? status : waited;
}

/* Whether this system can wait for several words; old ones, and Valgrind, cannot. */
static bool shared_waits_exist(void) {
    return syscall(449 /* futex_waitv */, NULL, 0, 0, NULL, 0) == 0 || errno != ENOSYS;
}

static void begin_shared(void) {
    ck_assert_status(mtask_event_init(&shared, MTASK_SHARED), MTASK_OK);
    ck_assert_status(mtask_mutex_init(&shared_mutex, MTASK_SHARED), MTASK_OK);
}

START_TEST(a_wait_between_processes_may_be_unsupported) {
    begin_shared();
    arm(AT_WAITV, 1, LONG_MAX, ENOSYS);
    for (int i = 0; i < 3; i++)
        ck_assert_status(try_shared(), MTASK_UNSUPPORTED);
    ck_assert_int_ge(disarm(AT_WAITV), 1);
    ck_assert_uint_eq(mtask_thread_active_count(), 1);
}
END_TEST

START_TEST(a_wait_between_processes_needs_a_thread) {
    begin_shared();
    if (!shared_waits_exist())
        return;
    for (int i = 0; i < 3; i++) {
        arm(AT_THREAD, 1, 1, EAGAIN);
        ck_assert_status(try_shared(), MTASK_SYSTEM);
        ck_assert_int_eq(disarm(AT_THREAD), 1);
    }
    for (long first = 1;; first++) {
        mtask_status status;
        arm(AT_MEMORY, first, 1, ENOMEM);
        status = try_shared();
        if (disarm(AT_MEMORY) == 0)
            break;
        ck_assert(status == MTASK_NOMEM || status == MTASK_TIMEOUT);
    }
    ck_assert_status(try_shared(), MTASK_TIMEOUT);
}
END_TEST

/* The helper's waits fail now and then: nobody notices. */
static void *wait_for_shared(void *arg) {
    ck_assert_status(mtask_event_wait(&shared, MTASK_FOREVER), MTASK_OK);
    return arg;
}

static void set_shared(testing_member *self) {
    testing_pause(5);
    mtask_event_set((mtask_event *)self->arg);
}

START_TEST(waits_between_processes_may_be_interrupted) {
    static const int errors[] = {EINTR, EAGAIN, EINVAL};
    begin_shared();
    if (!shared_waits_exist())
        return;
    ck_assert_status(try_shared(), MTASK_TIMEOUT);
    for (int i = 0; i < 3; i++) {
        testing_crowd crowd;
        mtask_event_clear(&shared);
        arm(AT_WAITV, 1, 3, errors[i]);
        testing_crowd_start(&crowd, 1, set_shared, &shared);
        (void)in_loop(wait_for_shared, NULL);
        testing_crowd_join(&crowd);
        (void)disarm(AT_WAITV);
    }
}
END_TEST

/* A lock between processes that another thread holds: refused, not spun for. */
static void *lock_shared(void *arg) {
    ck_assert_status(mtask_mutex_lock_for(&shared_mutex, MTASK_MS(1)), MTASK_UNSUPPORTED);
    ck_assert_status(mtask_mutex_lock(&shared_mutex), MTASK_UNSUPPORTED);
    return arg;
}

START_TEST(a_lock_between_processes_may_be_unsupported) {
    begin_shared();
    arm(AT_WAITV, 1, LONG_MAX, ENOSYS);
    ck_assert_status(mtask_mutex_lock(&shared_mutex), MTASK_OK);
    (void)in_loop(lock_shared, NULL);
    ck_assert_status(mtask_mutex_unlock(&shared_mutex), MTASK_OK);
    (void)disarm(AT_WAITV);
}
END_TEST
# endif

#endif /* MTASK_CORO_NO_LOOP */

/* ---- misuse that is refused: coroutines ---- */

static void *return_arg(void *arg) {
    return arg;
}

START_TEST(a_coroutine_needs_a_function_and_a_stack) {
    static unsigned char memory[16384];
    mtask_coro_desc descs[] = {
        {.fn = NULL},
        {.fn = NULL, .stack = memory, .stack_size = sizeof memory},
        {.fn = return_arg, .stack_size = 1},
        {.fn = return_arg, .stack_size = MTASK_CORO_STACK_MIN - 1},
        {.fn = return_arg, .stack = memory, .stack_size = 1},
        {.fn = return_arg, .stack = memory, .stack_size = MTASK_CORO_STACK_MIN - 1},
    };
    mtask_coro *coro = (mtask_coro *)memory;
    ck_assert_status(mtask_coro_create(&coro, NULL, NULL), MTASK_INVALID);
    ck_assert_ptr_null(coro);
    for (size_t i = 0; i < sizeof descs / sizeof descs[0]; i++) {
        coro = (mtask_coro *)memory;
        ck_assert_status(mtask_coro_create_ex(&coro, &descs[i]), MTASK_INVALID);
        ck_assert_ptr_null(coro);
    }
    ck_assert_status(mtask_coro_destroy(NULL), MTASK_OK);
}
END_TEST

static mtask_coro *outer_coro, *inner_coro;

/* All that is refused of a coroutine that runs, `self`, and of one that waits for it. */
static void misuse(mtask_coro *coro) {
    void *out = &out;
    mtask_outcome outcome;
    ck_assert_status(mtask_coro_resume(coro, NULL, &out), MTASK_INVALID);
    ck_assert_ptr_null(out);
    ck_assert_status(mtask_coro_transfer(coro, NULL, NULL), MTASK_INVALID);
    ck_assert_status(mtask_coro_close(coro), MTASK_INVALID);
    ck_assert_status(mtask_coro_destroy(coro), MTASK_INVALID);
    ck_assert_status(mtask_coro_outcome(coro, &outcome), MTASK_INVALID);
    ck_assert(!mtask_coro_next(coro, NULL));
}

static void *misuse_both(void *arg) {
    misuse(inner_coro);
    misuse(outer_coro);
    ck_assert_status(mtask_coro_yield(NULL, NULL), MTASK_OK);
    return arg;
}

static void *resume_inner(void *arg) {
    (void)resume_for(inner_coro, 0, MTASK_OK);
    return arg;
}

START_TEST(a_coroutine_that_runs_or_waits_is_left_alone) {
    mtask_outcome outcome;
    ck_assert_status(mtask_coro_yield(NULL, NULL), MTASK_INVALID);
    inner_coro = open_coro(misuse_both, NULL);
    outer_coro = open_coro(resume_inner, NULL);
    ck_assert_status(mtask_coro_outcome(inner_coro, &outcome), MTASK_INVALID);
    (void)resume_for(outer_coro, 0, MTASK_DONE);
    ck_assert_status(mtask_coro_destroy(inner_coro), MTASK_INVALID); /* it has yielded */
    ck_assert_status(mtask_coro_outcome(inner_coro, &outcome), MTASK_INVALID);
    (void)resume_for(inner_coro, 0, MTASK_DONE);
    (void)resume_for(inner_coro, 0, MTASK_CLOSED);
    ck_assert_status(mtask_coro_transfer(inner_coro, NULL, NULL), MTASK_CLOSED);
    end_coro(inner_coro);
    end_coro(outer_coro);
}
END_TEST

/* ---- misuse that is refused: loops, limits, groups ---- */

#ifndef MTASK_CORO_NO_LOOP

/* What needs a loop, on a thread that runs none. */
static void misuse_without_loop(void) {
    mtask_limit limit;
    mtask_taskgroup group;
    mtask_call call = {return_arg, NULL};
    mtask_future *future = (mtask_future *)&limit;
    mtask_go_desc desc = {.fn = return_arg, .future = &future};
    memset(&limit, 0, sizeof limit);
    memset(&group, 0, sizeof group);
    ck_assert_status(mtask_go(return_arg, NULL, &future), MTASK_INVALID);
    ck_assert_ptr_null(future);
    future = (mtask_future *)&limit;
    ck_assert_status(mtask_go_ex(&desc), MTASK_INVALID);
    ck_assert_ptr_null(future);
    ck_assert_status(mtask_limit_begin(&limit, 1), MTASK_INVALID);
    ck_assert_status(mtask_limit_set(&limit, 1), MTASK_INVALID);
    ck_assert_status(mtask_limit_end(&limit), MTASK_INVALID);
    ck_assert_status(mtask_with_timeout(1, return_arg, NULL, NULL), MTASK_INVALID);
    ck_assert_status(mtask_taskgroup_begin(&group), MTASK_INVALID);
    ck_assert_status(mtask_taskgroup_go(&group, return_arg, NULL, NULL), MTASK_INVALID);
    ck_assert_status(mtask_taskgroup_end(&group, NULL), MTASK_INVALID);
    ck_assert_status(mtask_gather(&call, 1, NULL), MTASK_INVALID);
    ck_assert_ptr_null(mtask_loop_current());
    ck_assert(!mtask_canceled());
    mtask_shield_begin(); /* without effect */
    mtask_nopark_begin();
    mtask_nopark_end();
    mtask_shield_end();
    ck_assert_status(mtask_yield(), MTASK_OK);
}

START_TEST(what_needs_a_loop_is_refused_without) {
    mtask_coro_local local;
    misuse_without_loop();
    memset(&local, 0, sizeof local);
    ck_assert_status(mtask_coro_local_set(&local, &local), MTASK_INVALID);
    ck_assert_ptr_null(mtask_coro_local_get(&local));
    ck_assert_status(mtask_loop_run(NULL, NULL, NULL), MTASK_INVALID);
    ck_assert_status(mtask_loop_run_ex(NULL, NULL, NULL, NULL), MTASK_INVALID);
    ck_assert_status(mtask_loop_destroy(NULL), MTASK_OK);
}
END_TEST

/* Starts of loops in loops, and of tasks without functions or with stacks that are too small. */
static void misuse_starts(mtask_loop *loop) {
    mtask_loop *other = loop;
    mtask_loop_call call;
    mtask_taskgroup group;
    mtask_future *future = (mtask_future *)&call;
    mtask_go_desc desc = {.fn = NULL, .future = &future, .loop = loop};
    memset(&call, 0, sizeof call);
    ck_assert_status(mtask_loop_run(return_arg, NULL, NULL), MTASK_INVALID);
    ck_assert_status(mtask_loop_create(&other, NULL), MTASK_INVALID);
    ck_assert_ptr_null(other);
    ck_assert_status(mtask_go(NULL, NULL, &future), MTASK_INVALID);
    ck_assert_ptr_null(future);
    ck_assert_status(mtask_go_ex(&desc), MTASK_INVALID);
    ck_assert_status(mtask_loop_go(loop, NULL, NULL, &future), MTASK_INVALID);
    ck_assert_ptr_null(future);
    desc.fn = return_arg;
    desc.stack_size = MTASK_CORO_STACK_MIN - 1;
    ck_assert_status(mtask_go_ex(&desc), MTASK_INVALID);
    ck_assert_ptr_null(future);
    ck_assert_status(mtask_loop_post(loop, &call), MTASK_INVALID);
    ck_assert_status(mtask_taskgroup_begin(&group), MTASK_OK);
    ck_assert_status(mtask_taskgroup_go(&group, NULL, NULL, &future), MTASK_INVALID);
    ck_assert_status(mtask_taskgroup_end(&group, NULL), MTASK_OK);
    ck_assert_status(mtask_taskgroup_go(&group, return_arg, NULL, NULL), MTASK_INVALID);
    ck_assert_status(mtask_taskgroup_end(&group, NULL), MTASK_INVALID);
}

/* A gather of which one call is none: the others have ended when it returns. */
static void misuse_gather(void) {
    mtask_call calls[3] = {{short_task, NULL}, {NULL, NULL}, {short_task, NULL}};
    mtask_outcome outcomes[3];
    ck_assert_status(mtask_gather(calls, 3, outcomes), MTASK_INVALID);
    ck_assert_status(outcomes[2].status, MTASK_CANCELED);
    ck_assert_uint_eq(mtask_loop_pending(mtask_loop_current()), 1);
}

static void misuse_limits(void) {
    mtask_limit outer, inner;
    mtask_taskgroup group;
    ck_assert_status(mtask_limit_begin(&outer, -1), MTASK_INVALID);
    ck_assert_status(mtask_with_timeout(-1, return_arg, NULL, NULL), MTASK_INVALID);
    ck_assert_status(mtask_with_timeout(1, NULL, NULL, NULL), MTASK_INVALID);
    ck_assert_status(mtask_limit_begin(&outer, MTASK_SEC(100)), MTASK_OK);
    ck_assert_status(mtask_limit_begin(&inner, MTASK_NOWAIT), MTASK_OK);
    ck_assert_status(mtask_limit_end(&outer), MTASK_INVALID);
    ck_assert_status(mtask_limit_set(&outer, -1), MTASK_INVALID);
    ck_assert_status(mtask_limit_set(&outer, MTASK_SEC(200)), MTASK_OK);
    ck_assert_status(mtask_sleep(MTASK_SEC(1)), MTASK_CANCELED);
    ck_assert_status(mtask_limit_set(&inner, MTASK_SEC(1)), MTASK_INVALID); /* it was reached */
    ck_assert_status(mtask_taskgroup_begin(&group), MTASK_OK);
    ck_assert_status(mtask_limit_end(&inner), MTASK_INVALID);
    ck_assert_status(mtask_taskgroup_end(&group, NULL), MTASK_OK);
    ck_assert_status(mtask_limit_end(&inner), MTASK_TIMEOUT);
    ck_assert_status(mtask_limit_set(&inner, MTASK_SEC(1)), MTASK_INVALID);
    ck_assert_status(mtask_limit_end(&inner), MTASK_INVALID);
    ck_assert_status(mtask_limit_end(&outer), MTASK_OK);
}

/* Another task, and another thread, that meddle with a group and a limit which are not theirs. */
typedef struct victims {
    mtask_limit limit;
    mtask_taskgroup group;
    mtask_loop *loop;
} victims;

static void *meddle(void *arg) {
    victims *those = (victims *)arg;
    ck_assert_status(mtask_limit_set(&those->limit, 0), MTASK_INVALID);
    ck_assert_status(mtask_limit_end(&those->limit), MTASK_INVALID);
    ck_assert_status(mtask_taskgroup_end(&those->group, NULL), MTASK_INVALID);
    return arg;
}

static void meddle_from_thread(testing_member *self) {
    victims *those = (victims *)self->arg;
    (void)meddle(those);
    ck_assert_status(mtask_taskgroup_go(&those->group, return_arg, NULL, NULL), MTASK_INVALID);
    ck_assert_status(mtask_loop_step(those->loop, MTASK_NOWAIT), MTASK_INVALID);
    ck_assert_status(mtask_loop_destroy(those->loop), MTASK_INVALID);
    misuse_without_loop();
}

static void misuse_from_elsewhere(void) {
    victims those;
    testing_crowd crowd;
    memset(&those, 0, sizeof those);
    those.loop = mtask_loop_current();
    ck_assert_status(mtask_limit_begin(&those.limit, MTASK_SEC(100)), MTASK_OK);
    ck_assert_status(mtask_taskgroup_begin(&those.group), MTASK_OK);
    ck_assert_status(mtask_taskgroup_go(&those.group, meddle, &those, NULL), MTASK_OK);
    testing_crowd_start(&crowd, 1, meddle_from_thread, &those);
    testing_crowd_join(&crowd);
    ck_assert_status(mtask_taskgroup_end(&those.group, NULL), MTASK_OK);
    ck_assert_status(mtask_limit_end(&those.limit), MTASK_OK);
}

static void *misuse_in_task(void *arg) {
    mtask_coro_local local;
    mtask_loop *loop = mtask_loop_current();
    memset(&local, 0, sizeof local);
    ck_assert_status(mtask_coro_local_set(&local, &local), MTASK_INVALID);
    ck_assert_status(mtask_loop_step(loop, MTASK_NOWAIT), MTASK_INVALID);
    ck_assert_status(mtask_loop_destroy(loop), MTASK_INVALID);
    misuse_starts(loop);
    misuse_gather();
    misuse_limits();
    misuse_from_elsewhere();
    return arg;
}

START_TEST(what_makes_no_sense_in_a_task_is_refused) {
    (void)in_loop(misuse_in_task, NULL);
    misuse_without_loop();
}
END_TEST

static void touch_loop_of_another(testing_member *self) {
    mtask_loop *loop = (mtask_loop *)self->arg;
    ck_assert_status(mtask_loop_step(loop, MTASK_NOWAIT), MTASK_INVALID);
    ck_assert_status(mtask_loop_destroy(loop), MTASK_INVALID);
    self->status = mtask_loop_go(loop, misuse_in_task, NULL, NULL);
}

START_TEST(what_makes_no_sense_for_a_host_is_refused) {
    mtask_loop *loop = NULL, *other = NULL;
    testing_crowd crowd;
    ck_assert_status(mtask_loop_create(&loop, NULL), MTASK_OK);
    ck_assert_status(mtask_loop_create(&other, NULL), MTASK_INVALID);
    ck_assert_ptr_null(other);
    ck_assert_status(mtask_loop_run(return_arg, NULL, NULL), MTASK_INVALID);
    ck_assert_status(mtask_loop_step(loop, -1), MTASK_INVALID);
    testing_crowd_start(&crowd, 1, touch_loop_of_another, loop);
    testing_crowd_join(&crowd);
    ck_assert_status(crowd.members[0].status, MTASK_OK);
    ck_assert_status(step_to_end(loop), MTASK_OK);
    ck_assert_status(mtask_loop_destroy(loop), MTASK_OK);
    misuse_without_loop();
}
END_TEST

/* What is started while the loop is ending. */
static void *go_on_at_the_end(void *arg) {
    mtask_future *future = (mtask_future *)arg;
    while (mtask_sleep(MTASK_SEC(1)) == MTASK_OK) {
    }
    ck_assert_status(mtask_go(return_arg, NULL, &future), MTASK_CLOSED);
    ck_assert_ptr_null(future);
    *(bool *)arg = true;
    return arg;
}

static void *end_at_once(void *arg) {
    ck_assert_status(mtask_go(go_on_at_the_end, arg, NULL), MTASK_OK);
    ck_assert_status(mtask_yield(), MTASK_OK);
    return arg;
}

START_TEST(a_loop_that_ends_takes_no_tasks) {
    bool tried = false;
    (void)in_loop(end_at_once, &tried);
    ck_assert(tried);
}
END_TEST

/* ---- children of fork: they have no loop ---- */

# define CHILD_CHECK(condition)                                                                    \
  do {                                                                                             \
   if (!(condition))                                                                               \
    _exit(101); /* with no more ado: the checks of the tests belong to the parent */               \
  } while (0)

static mtask_loop *parents;

static void use_loop_in_child(void) {
    mtask_future *future = NULL;
    mtask_limit limit;
    mtask_taskgroup group;
    CHILD_CHECK(mtask_loop_go(parents, return_arg, NULL, NULL) == MTASK_BROKEN);
    CHILD_CHECK(mtask_loop_go(parents, return_arg, NULL, &future) == MTASK_BROKEN);
    CHILD_CHECK(mtask_loop_step(parents, MTASK_NOWAIT) == MTASK_BROKEN);
    CHILD_CHECK(mtask_loop_destroy(parents) == MTASK_BROKEN);
    CHILD_CHECK(mtask_loop_current() == NULL && !mtask_canceled());
    CHILD_CHECK(mtask_go(return_arg, NULL, NULL) == MTASK_BROKEN);
    CHILD_CHECK(mtask_limit_begin(&limit, 1) == MTASK_INVALID);
    CHILD_CHECK(mtask_taskgroup_begin(&group) == MTASK_INVALID);
    CHILD_CHECK(mtask_yield() == MTASK_OK);
    CHILD_CHECK(mtask_sleep(MTASK_US(10)) == MTASK_OK); /* it blocks */
    CHILD_CHECK(mtask_event_wait(&never, MTASK_US(10)) == MTASK_TIMEOUT);
}

static pid_t in_child; /* 0 in the child */

static void *fork_in_task(void *arg) {
    mtask_limit limit;
    parents = mtask_loop_current();
    ck_assert_status(mtask_go(wait_in_vain, arg, NULL), MTASK_OK);
    ck_assert_status(mtask_yield(), MTASK_OK);
    ck_assert_status(mtask_limit_begin(&limit, MTASK_SEC(100)), MTASK_OK);
    in_child = fork();
    if (in_child != 0)
        ck_assert_status(mtask_limit_end(&limit), MTASK_OK);
    else
        use_loop_in_child();
    if (in_child == 0 && TESTING_TSAN) /* it takes the stacks of the child for threads that race */
        _exit(100);
    return arg;
}

/* Waits for the child; it must have ended well. */
static void await_child(void) {
    int status = 0;
    ck_assert_int_gt(in_child, 0);
    ck_assert_int_eq(waitpid(in_child, &status, 0), in_child);
    ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 100);
}

START_TEST(a_child_of_a_task_has_no_loop) {
    mtask_status status;
    fflush(NULL);
    status = mtask_loop_run(fork_in_task, NULL, NULL);
    if (in_child == 0)
        _exit(status == MTASK_BROKEN ? 100 : 102);
    ck_assert_status(status, MTASK_OK);
    await_child();
}
END_TEST

START_TEST(a_child_of_a_host_has_no_loop) {
    ck_assert_status(mtask_loop_create(&parents, NULL), MTASK_OK);
    ck_assert_status(mtask_go(wait_in_vain, NULL, NULL), MTASK_OK);
    ck_assert_status(mtask_loop_step(parents, MTASK_NOWAIT), MTASK_OK);
    fflush(NULL);
    in_child = fork();
    if (in_child == 0) {
        use_loop_in_child();
        _exit(100);
    }
    await_child();
    ck_assert_status(mtask_loop_destroy(parents), MTASK_OK);
}
END_TEST
#endif /* MTASK_CORO_NO_LOOP */

#ifdef MTASK_CORO_NO_LOOP
# define LOOP_TESTS
#else
# define LOOP_TESTS                                                                                \
  what_finds_no_memory_is_refused, waits_need_no_memory,                                           \
      a_loop_without_descriptors_does_not_begin, a_wait_of_the_loop_may_be_interrupted,            \
      a_loop_that_cannot_wait_ends_its_tasks, a_loop_need_not_read_its_wakes,                      \
      a_clock_that_fails_is_told, tasks_without_address_space_are_refused,                         \
      a_hundred_thousand_tasks_meet_a_lack_of_stacks,                                              \
      a_hundred_thousand_tasks_meet_a_lack_of_memory, tasks_use_up_address_space,                  \
      a_dump_that_cannot_be_written_is_told, a_hosts_loop_is_refused_or_works,                     \
      a_step_that_cannot_wait_is_told, a_hosts_loop_that_cannot_wait_ends_its_tasks,               \
      what_needs_a_loop_is_refused_without, what_makes_no_sense_in_a_task_is_refused,              \
      what_makes_no_sense_for_a_host_is_refused, a_loop_that_ends_takes_no_tasks,                  \
      a_child_of_a_task_has_no_loop, a_child_of_a_host_has_no_loop,
#endif
#if defined(MTASK_CORO_NO_LOOP) || !USES_EPOLL
# define EPOLL_TESTS
#else
# define EPOLL_TESTS a_wait_of_nanoseconds_may_be_unknown, a_wait_of_nanoseconds_may_be_forbidden,
#endif
#if defined(MTASK_CORO_NO_LOOP) || defined(MTASK_FORCE_POSIX)
# define SHARED_TESTS
#else
# define SHARED_TESTS                                                                              \
  a_wait_between_processes_may_be_unsupported, a_wait_between_processes_needs_a_thread,            \
      waits_between_processes_may_be_interrupted, a_lock_between_processes_may_be_unsupported,
#endif

TESTING_MAIN("mtask_coro_failure",
             LOOP_TESTS EPOLL_TESTS SHARED_TESTS a_coroutine_without_memory_is_not_made,
             a_coroutine_without_any_memory_is_not_made,
             a_coroutine_without_address_space_is_not_made, slabs_are_as_small_as_they_must_be,
             pages_may_be_huge_if_nothing_can_be_said_against_it,
             guards_are_mappings_where_they_cannot_be_less, stacks_without_guards_are_counted,
             guards_leave_mappings_to_the_rest_of_the_program,
             stacks_are_not_kept_without_memory_to_note_it, stacks_are_not_kept_without_a_key,
             threads_give_their_stacks_back, slabs_may_fail_to_go, slabs_go_when_they_are_empty,
             address_space_may_run_out, a_coroutine_needs_a_function_and_a_stack,
             a_coroutine_that_runs_or_waits_is_left_alone)
