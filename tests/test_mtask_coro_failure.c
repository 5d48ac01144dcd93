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

typedef struct injection {
    long calls; /* since it was armed */
    long first; /* the first call to fail, from 1; 0: none */
    long last;  /* the last one */
    long hits;  /* how many failed */
    int error;
} injection;

static injection injections[POINTS];
static long live_blocks; /* of memory */
static long live_bytes;  /* mapped */
static long calls_of[POINTS];

static long look(const long *counter) {
    return __atomic_load_n(counter, __ATOMIC_SEQ_CST);
}

static void add(long *counter, long n) {
    __atomic_add_fetch(counter, n, __ATOMIC_SEQ_CST);
}

/* Whether this call at `at` has to fail; then errno says why. */
static bool fails(point at) {
    injection *here = &injections[at];
    long first = look(&here->first), call;
    add(&calls_of[at], 1);
    if (first == 0)
        return false;
    call = __atomic_add_fetch(&here->calls, 1, __ATOMIC_SEQ_CST);
    if (call < first || call > look(&here->last))
        return false;
    add(&here->hits, 1);
    errno = __atomic_load_n(&here->error, __ATOMIC_SEQ_CST);
    return true;
}

/* From the `first` call from now on, `number` calls at `at` will fail with `error`. */
static void arm(point at, long first, long number, int error) {
    injection *here = &injections[at];
    __atomic_store_n(&here->first, 0, __ATOMIC_SEQ_CST);
    __atomic_store_n(&here->calls, 0, __ATOMIC_SEQ_CST);
    __atomic_store_n(&here->hits, 0, __ATOMIC_SEQ_CST);
    __atomic_store_n(&here->error, error, __ATOMIC_SEQ_CST);
    __atomic_store_n(&here->last, number > LONG_MAX - first ? LONG_MAX : first + number - 1,
                     __ATOMIC_SEQ_CST);
    __atomic_store_n(&here->first, first, __ATOMIC_SEQ_CST);
}

/* No more failures; how many there were. */
static long disarm(point at) {
    __atomic_store_n(&injections[at].first, 0, __ATOMIC_SEQ_CST);
    return look(&injections[at].hits);
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
    long count = most_mappings() / 2 + 1000;
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

START_TEST(address_space_may_run_out) {
    int status = 0;
    pid_t pid;
    if (TESTING_TSAN || TESTING_ASAN) /* they need terabytes of it */
        return;
    fflush(NULL);
    pid = fork();
    if (pid == 0) {
        int line = use_up_address_space();
        if (line != 0)
            dprintf(2, "%s:%d: failed in the child\n", __FILE__, line);
        _exit(line != 0);
    }
    ck_assert(pid > 0 && waitpid(pid, &status, 0) == pid);
    ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}
END_TEST

TESTING_MAIN("mtask_coro_failure", a_coroutine_without_memory_is_not_made,
             a_coroutine_without_any_memory_is_not_made,
             a_coroutine_without_address_space_is_not_made, slabs_are_as_small_as_they_must_be,
             pages_may_be_huge_if_nothing_can_be_said_against_it,
             guards_are_mappings_where_they_cannot_be_less, stacks_without_guards_are_counted,
             guards_leave_mappings_to_the_rest_of_the_program,
             stacks_are_not_kept_without_memory_to_note_it, threads_give_their_stacks_back,
             slabs_may_fail_to_go, slabs_go_when_they_are_empty, address_space_may_run_out)
