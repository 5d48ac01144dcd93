/* test_mtask_proc_failure.c - processes, commands, connections, shared memory and pools of processes
   when the system interrupts or refuses what is asked of it
// standalone: it holds the implementation itself, with the calls of the system that may fail
   replaced by ones that fail when they are told to.

   Each operation of the table below is done with the first, the second, ... call of a kind failing,
   until there is none left to fail: in this process, in those that it starts, in what those start. */
#define _GNU_SOURCE 1
#include <arpa/inet.h>
#include <ctype.h>
#include <dirent.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <link.h>
#include <math.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include <linux/futex.h>

/* Forked processes, in which a watching thread is started where the system does not watch. */
const char *__tsan_default_options(void);
const char *__tsan_default_options(void) {
    return "die_after_fork=0:report_thread_leaks=0";
}

/* ---- where failures can be injected ---- */

#define POINT_LIST(X)                                                                              \
 X(AT_MEMORY)                                                                                      \
 X(AT_THREAD) /* pthread_create */                                                                 \
 X(AT_FORK)                                                                                        \
 X(AT_SPAWN)   /* posix_spawn, posix_spawnp */                                                     \
 X(AT_PREPARE) /* posix_spawn_file_actions_*, posix_spawnattr_* */                                 \
 X(AT_REAP)    /* waitpid, waitid */                                                               \
 X(AT_KILL)                                                                                        \
 X(AT_PIDFD) /* pidfd_open, pidfd_send_signal */                                                   \
 X(AT_MEMFD) /* memfd_create, shm_open */                                                          \
 X(AT_SIZE)  /* ftruncate */                                                                       \
 X(AT_MAP)   /* mmap */                                                                            \
 X(AT_LINK)  /* symlinkat, mkdir */                                                                \
 X(AT_LOCK)  /* flock */                                                                           \
 X(AT_UNLINK)                                                                                      \
 X(AT_OPEN) /* open, openat, opendir */                                                            \
 X(AT_STAT)                                                                                        \
 X(AT_READ)                                                                                        \
 X(AT_WRITE)                                                                                       \
 X(AT_PREAD)                                                                                       \
 X(AT_PWRITE)                                                                                      \
 X(AT_RECV)                                                                                        \
 X(AT_SEND)                                                                                        \
 X(AT_EPOLL) /* epoll_create1 */                                                                   \
 X(AT_CTL)   /* epoll_ctl */                                                                       \
 X(AT_LOOP)  /* epoll_wait, epoll_pwait2 */                                                        \
 X(AT_POLL)                                                                                        \
 X(AT_EVENT) /* eventfd */                                                                         \
 X(AT_PIPE)                                                                                        \
 X(AT_PAIR) /* socketpair */                                                                       \
 X(AT_SOCKET)                                                                                      \
 X(AT_BIND)                                                                                        \
 X(AT_LISTEN)                                                                                      \
 X(AT_ACCEPT)                                                                                      \
 X(AT_CONNECT)                                                                                     \
 X(AT_OPTION) /* getsockopt, setsockopt, getsockname, getpeername */                               \
 X(AT_CLOSE)                                                                                       \
 X(AT_DUP)                                                                                         \
 X(AT_FCNTL)  /* fcntl, ioctl */                                                                   \
 X(AT_CHANCE) /* getentropy */                                                                     \
 X(AT_TUNE)   /* nice, sched_setaffinity */

#define POINT_NAME(name) name,
typedef enum point { POINT_LIST(POINT_NAME) POINTS } point;
#undef POINT_NAME

#include "testing_inject.h"

#define POINT_TEXT(name) #name,
static const char *const point_names[] = {POINT_LIST(POINT_TEXT)};
#undef POINT_TEXT

/* What shall happen in other processes: seen by all of them. */
struct elsewhere {
    int depth; /* of which: 1: those that this one starts, 2: those that they start, 0: none */
    point at;
    long first; /* the call that fails, of all theirs */
    long calls;
    long hits;
    int error;
    bool storm;            /* all are interrupted all the time */
    long calls_of[POINTS]; /* theirs */
};

static struct elsewhere *elsewhere;
static int depth;

static long live_blocks; /* of memory */
static long live_maps;
static long live_children;
static long calls_of[POINTS];
static _Thread_local bool spared; /* none of this thread's calls fails */

/* What all of them count. */
static void count_call(point at) {
    if (elsewhere != NULL && depth > 0)
        add(&elsewhere->calls_of[at], 1);
    else
        add(&calls_of[at], 1);
}

static bool fails_elsewhere(point at) {
    if (look(&elsewhere->first) == 0 || elsewhere->depth != depth || elsewhere->at != at ||
        __atomic_add_fetch(&elsewhere->calls, 1, __ATOMIC_SEQ_CST) != elsewhere->first)
        return false;
    add(&elsewhere->hits, 1);
    errno = elsewhere->error;
    return true;
}

/* Whether this call at `at` has to fail; then errno says why. */
static bool fails(point at) {
    bool failed;
    if (spared)
        return false;
    count_call(at);
    if (depth > 0)
        return elsewhere != NULL && fails_elsewhere(at);
    failed = fails_at(at);
    if (failed)
        errno = error_at(at);
    return failed;
}

/* ---- other processes ---- */

static void on_storm(int number) {
    (void)number;
}

static bool storms;
static timer_t storm;

/* From now on a signal comes every 100 us. */
static void start_storm(void) {
    struct sigaction action;
    struct sigevent event;
    struct itimerspec often = {{0, 100000}, {0, 100000}};
    memset(&action, 0, sizeof action);
    memset(&event, 0, sizeof event);
    action.sa_handler = on_storm; /* no SA_RESTART: calls end with EINTR */
    event.sigev_notify = SIGEV_SIGNAL;
    event.sigev_signo = SIGUSR1;
    if (sigaction(SIGUSR1, &action, NULL) != 0 ||
        timer_create(CLOCK_MONOTONIC, &event, &storm) != 0 ||
        timer_settime(storm, 0, &often, NULL) != 0)
        abort();
    storms = true;
}

static void stop_storm(void) {
    if (storms && timer_delete(storm) != 0)
        abort();
    storms = false;
}

static struct rlimit usual_files; /* of descriptors; rlim_cur 0: not changed */

/* In a forked child nothing fails, unless it is to be so in those of its kind. */
static void begin_child(void) {
    for (int at = 0; at < POINTS; at++)
        (void)disarm((point)at);
    spared = false;
    depth++;
    storms = false;
    if (usual_files.rlim_cur != 0)
        (void)setrlimit(RLIMIT_NOFILE, &usual_files);
    if (elsewhere != NULL && elsewhere->storm)
        start_storm();
}

/* The descriptor of `elsewhere` in the process that all others come from. */
#define ELSEWHERE "MTASK_TEST_ELSEWHERE"

static void map_elsewhere(int fd) {
    void *memory = mmap(NULL, sizeof *elsewhere, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (memory == MAP_FAILED)
        abort();
    elsewhere = (struct elsewhere *)memory;
}

/* Before all else, in each process that is this program. */
__attribute__((constructor)) static void begin_program(void) {
    const char *path = getenv(ELSEWHERE);
    int fd;
    if (pthread_atfork(NULL, NULL, begin_child) != 0)
        abort();
    if (path == NULL)
        return;
    fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return; /* who made it has ended */
    map_elsewhere(fd);
    (void)close(fd);
    depth = 1;
    if (elsewhere->storm)
        start_storm();
}

/* In a test that looks at other processes. */
static void share_elsewhere(void) {
    char path[64];
    int fd = memfd_create("elsewhere", MFD_CLOEXEC);
    if (fd < 0 || ftruncate(fd, sizeof *elsewhere) != 0)
        abort();
    map_elsewhere(fd);
    snprintf(path, sizeof path, "/proc/%ld/fd/%d", (long)getpid(), fd);
    if (setenv(ELSEWHERE, path, 1) != 0)
        abort();
}

static void arm_elsewhere(int which, point at, long first, int error) {
    elsewhere->first = 0;
    elsewhere->depth = which;
    elsewhere->at = at;
    elsewhere->error = error;
    elsewhere->calls = elsewhere->hits = 0;
    __atomic_store_n(&elsewhere->first, first, __ATOMIC_SEQ_CST);
}

static long disarm_elsewhere(void) {
    __atomic_store_n(&elsewhere->first, 0, __ATOMIC_SEQ_CST);
    return look(&elsewhere->hits);
}

#define FAKE static __attribute__((unused))

/* Defines fake_NAME, which fails at `at` or calls what it stands for; the way of those that answer
   -1 when they fail. */
#define REFUSABLE(at, type, name, parameters, arguments)                                           \
 FAKE type fake_##name parameters {                                                                \
  return fails(at) ? (type)-1 : name arguments;                                                    \
 }

/* The way of those that answer the error. */
#define ANSWERS(at, name, parameters, arguments)                                                   \
 FAKE int fake_##name parameters {                                                                 \
  return fails(at) ? errno : name arguments;                                                       \
 }

/* ---- the replaced calls; which of them are made depends on the configuration ---- */

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

FAKE void *fake_mmap(void *at, size_t size, int access, int flags, int fd, off_t offset) {
    void *memory = fails(AT_MAP) ? MAP_FAILED : mmap(at, size, access, flags, fd, offset);
    add(&live_maps, memory != MAP_FAILED);
    return memory;
}

FAKE int fake_munmap(void *memory, size_t size) {
    int result = munmap(memory, size);
    add(&live_maps, -(result == 0));
    return result;
}

FAKE pid_t fake_fork(void) {
    pid_t pid = fails(AT_FORK) ? -1 : fork();
    add(&live_children, pid > 0);
    return pid;
}

FAKE int fake_posix_spawn(pid_t *pid, const char *path, const posix_spawn_file_actions_t *actions,
                          const posix_spawnattr_t *attributes, char *const *argv,
                          char *const *env) {
    int error = fails(AT_SPAWN) ? errno : posix_spawn(pid, path, actions, attributes, argv, env);
    add(&live_children, error == 0);
    return error;
}

FAKE int fake_posix_spawnp(pid_t *pid, const char *file, const posix_spawn_file_actions_t *actions,
                           const posix_spawnattr_t *attributes, char *const *argv,
                           char *const *env) {
    int error = fails(AT_SPAWN) ? errno : posix_spawnp(pid, file, actions, attributes, argv, env);
    add(&live_children, error == 0);
    return error;
}

FAKE pid_t fake_waitpid(pid_t pid, int *status, int options) {
    pid_t result = fails(AT_REAP) ? -1 : waitpid(pid, status, options);
    add(&live_children, -(result > 0));
    return result;
}

FAKE int fake_waitid(idtype_t type, id_t id, siginfo_t *info, int options) {
    int result = fails(AT_REAP) ? -1 : waitid(type, id, info, options);
    if (result == 0 && (options & WNOWAIT) == 0)
        add(&live_children, -(info->si_pid != 0));
    return result;
}

ANSWERS(AT_THREAD, pthread_create,
        (pthread_t * thread, const pthread_attr_t *attr, void *(*fn)(void *), void *arg),
        (thread, attr, fn, arg))
REFUSABLE(AT_KILL, int, kill, (pid_t pid, int number), (pid, number))
REFUSABLE(AT_MEMFD, int, memfd_create, (const char *name, unsigned flags), (name, flags))
REFUSABLE(AT_MEMFD, int, shm_open, (const char *name, int flags, mode_t mode), (name, flags, mode))
REFUSABLE(AT_SIZE, int, ftruncate, (int fd, off_t size), (fd, size))
ANSWERS(AT_PREPARE, posix_spawn_file_actions_init, (posix_spawn_file_actions_t * actions),
        (actions))
ANSWERS(AT_PREPARE, posix_spawn_file_actions_addclose,
        (posix_spawn_file_actions_t * actions, int fd), (actions, fd))
ANSWERS(AT_PREPARE, posix_spawn_file_actions_adddup2,
        (posix_spawn_file_actions_t * actions, int fd, int to), (actions, fd, to))
ANSWERS(AT_PREPARE, posix_spawn_file_actions_addopen,
        (posix_spawn_file_actions_t * actions, int fd, const char *path, int flags, mode_t mode),
        (actions, fd, path, flags, mode))
ANSWERS(AT_PREPARE, posix_spawn_file_actions_addchdir_np,
        (posix_spawn_file_actions_t * actions, const char *path), (actions, path))
ANSWERS(AT_PREPARE, posix_spawn_file_actions_addclosefrom_np,
        (posix_spawn_file_actions_t * actions, int from), (actions, from))
ANSWERS(AT_PREPARE, posix_spawnattr_init, (posix_spawnattr_t * attributes), (attributes))
ANSWERS(AT_PREPARE, posix_spawnattr_setsigmask,
        (posix_spawnattr_t * attributes, const sigset_t *set), (attributes, set))
ANSWERS(AT_PREPARE, posix_spawnattr_setsigdefault,
        (posix_spawnattr_t * attributes, const sigset_t *set), (attributes, set))
ANSWERS(AT_PREPARE, posix_spawnattr_setpgroup, (posix_spawnattr_t * attributes, pid_t group),
        (attributes, group))
ANSWERS(AT_PREPARE, posix_spawnattr_setflags, (posix_spawnattr_t * attributes, short flags),
        (attributes, flags))
REFUSABLE(AT_LOCK, int, flock, (int fd, int operation), (fd, operation))
REFUSABLE(AT_LINK, int, symlinkat, (const char *to, int directory, const char *path),
          (to, directory, path))
REFUSABLE(AT_UNLINK, int, unlinkat, (int directory, const char *path, int flags),
          (directory, path, flags))
REFUSABLE(AT_STAT, int, access, (const char *path, int mode), (path, mode))
REFUSABLE(AT_LINK, int, mkdir, (const char *path, mode_t mode), (path, mode))
REFUSABLE(AT_UNLINK, int, unlink, (const char *path), (path))
REFUSABLE(AT_STAT, int, fstat, (int fd, struct stat *status), (fd, status))
REFUSABLE(AT_STAT, int, stat, (const char *path, struct stat *status), (path, status))
REFUSABLE(AT_STAT, int, lstat, (const char *path, struct stat *status), (path, status))
REFUSABLE(AT_READ, ssize_t, read, (int fd, void *buffer, size_t size), (fd, buffer, size))
REFUSABLE(AT_READ, ssize_t, readv, (int fd, const struct iovec *parts, int n), (fd, parts, n))
REFUSABLE(AT_PREAD, ssize_t, pread, (int fd, void *buffer, size_t size, off_t offset),
          (fd, buffer, size, offset))
REFUSABLE(AT_WRITE, ssize_t, writev, (int fd, const struct iovec *parts, int n), (fd, parts, n))
REFUSABLE(AT_PWRITE, ssize_t, pwrite, (int fd, const void *buffer, size_t size, off_t offset),
          (fd, buffer, size, offset))
REFUSABLE(AT_RECV, ssize_t, recv, (int fd, void *buffer, size_t size, int flags),
          (fd, buffer, size, flags))
REFUSABLE(AT_RECV, ssize_t, recvmsg, (int fd, struct msghdr *message, int flags),
          (fd, message, flags))
REFUSABLE(AT_SEND, ssize_t, send, (int fd, const void *buffer, size_t size, int flags),
          (fd, buffer, size, flags))
REFUSABLE(AT_SEND, ssize_t, sendmsg, (int fd, const struct msghdr *message, int flags),
          (fd, message, flags))
REFUSABLE(AT_EPOLL, int, epoll_create1, (int flags), (flags))
REFUSABLE(AT_CTL, int, epoll_ctl, (int epoll, int operation, int fd, struct epoll_event *event),
          (epoll, operation, fd, event))
REFUSABLE(AT_EVENT, int, eventfd, (unsigned value, int flags), (value, flags))
REFUSABLE(AT_PIPE, int, pipe2, (int *ends, int flags), (ends, flags))
REFUSABLE(AT_PIPE, int, pipe, (int *ends), (ends))
REFUSABLE(AT_PAIR, int, socketpair, (int family, int type, int protocol, int *ends),
          (family, type, protocol, ends))
REFUSABLE(AT_SOCKET, int, socket, (int family, int type, int protocol), (family, type, protocol))
REFUSABLE(AT_BIND, int, bind, (int fd, const struct sockaddr *address, socklen_t size),
          (fd, address, size))
REFUSABLE(AT_LISTEN, int, listen, (int fd, int backlog), (fd, backlog))
REFUSABLE(AT_ACCEPT, int, accept4, (int fd, struct sockaddr *address, socklen_t *size, int flags),
          (fd, address, size, flags))
REFUSABLE(AT_OPTION, int, getsockopt, (int fd, int level, int name, void *value, socklen_t *size),
          (fd, level, name, value, size))
REFUSABLE(AT_OPTION, int, setsockopt,
          (int fd, int level, int name, const void *value, socklen_t size),
          (fd, level, name, value, size))
REFUSABLE(AT_OPTION, int, getsockname, (int fd, struct sockaddr *address, socklen_t *size),
          (fd, address, size))
REFUSABLE(AT_OPTION, int, getpeername, (int fd, struct sockaddr *address, socklen_t *size),
          (fd, address, size))
REFUSABLE(AT_DUP, int, dup, (int fd), (fd))
REFUSABLE(AT_DUP, int, dup2, (int fd, int to), (fd, to))
REFUSABLE(AT_DUP, int, dup3, (int fd, int to, int flags), (fd, to, flags))
REFUSABLE(AT_CHANCE, int, getentropy, (void *buffer, size_t size), (buffer, size))
REFUSABLE(AT_TUNE, int, nice, (int more), (more))
REFUSABLE(AT_TUNE, int, sched_setaffinity, (pid_t pid, size_t size, const cpu_set_t *cpus),
          (pid, size, cpus))

REFUSABLE(AT_LOOP, int, epoll_wait, (int epoll, struct epoll_event *events, int most, int timeout),
          (epoll, events, most, timeout))

/* One that is interrupted goes on. */
FAKE int fake_connect(int fd, const struct sockaddr *address, socklen_t size) {
    int error = fails(AT_CONNECT) ? errno : 0, result = -1;
    if (error == 0 || error == EINTR)
        result = connect(fd, address, size);
    if (error == 0)
        return result;
    errno = error;
    return -1;
}

/* What rings a bell always works. */
FAKE ssize_t fake_write(int fd, const void *buffer, size_t size) {
    return size > 8 && fails(AT_WRITE) ? -1 : write(fd, buffer, size);
}

REFUSABLE(AT_POLL, int, poll, (struct pollfd * fds, nfds_t count, int timeout),
          (fds, count, timeout))

REFUSABLE(AT_POLL, int, ppoll,
          (struct pollfd * fds, nfds_t count, const struct timespec *timeout, const sigset_t *mask),
          (fds, count, timeout, mask))

/* A descriptor is gone, whatever close says. */
FAKE int fake_close(int fd) {
    int error = fails(AT_CLOSE) ? errno : 0, result = close(fd);
    if (error == 0)
        return result;
    errno = error;
    return -1;
}

FAKE int fake_fcntl(int fd, int command, ...) {
    long argument;
    va_list args;
    va_start(args, command);
    argument = va_arg(args, long);
    va_end(args);
    if (command == F_DUPFD_CLOEXEC || command == F_DUPFD)
        return fails(AT_DUP) ? -1 : fcntl(fd, command, argument);
    return command != F_GETFD && fails(AT_FCNTL) ? -1 : fcntl(fd, command, argument);
}

REFUSABLE(AT_FCNTL, int, ioctl, (int fd, unsigned long request, void *argument),
          (fd, request, argument))

FAKE int fake_open(const char *path, int flags, ...) {
    unsigned mode;
    va_list args;
    va_start(args, flags);
    mode = va_arg(args, unsigned);
    va_end(args);
    return fails(AT_OPEN) ? -1 : open(path, flags, mode);
}

/* What has no name for others loses it at once. */
FAKE int fake_shm_unlink(const char *name) {
    return strstr(name, "failure-") != NULL && fails(AT_UNLINK) ? -1 : shm_unlink(name);
}

FAKE int fake_openat(int directory, const char *path, int flags, ...) {
    return fails(AT_OPEN) ? -1 : openat(directory, path, flags);
}

FAKE DIR *fake_opendir(const char *path) {
    return fails(AT_OPEN) ? NULL : opendir(path);
}

/* Takes more arguments than there may be. */
__attribute__((no_sanitize_address)) FAKE long fake_syscall(long number, ...) {
    long a[6];
    point at = number == 434 || number == 424 ? AT_PIDFD : number == 441 ? AT_LOOP : POINTS;
    va_list args;
    va_start(args, number);
    for (int i = 0; i < 6; i++)
        a[i] = va_arg(args, long);
    va_end(args);
    if (at != POINTS && fails(at))
        return -1;
    return syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

/* ---- the implementation, on top of them ---- */
#define MTASK_MALLOC(size)                     fake_malloc(size)
#define MTASK_REALLOC(p, size)                 fake_realloc((p), (size))
#define MTASK_FREE(p)                          fake_free(p)
#define mmap(...)                              fake_mmap(__VA_ARGS__)
#define munmap(...)                            fake_munmap(__VA_ARGS__)
#define fork(...)                              fake_fork(__VA_ARGS__)
#define posix_spawn(...)                       fake_posix_spawn(__VA_ARGS__)
#define posix_spawnp(...)                      fake_posix_spawnp(__VA_ARGS__)
#define waitpid(...)                           fake_waitpid(__VA_ARGS__)
#define waitid(...)                            fake_waitid(__VA_ARGS__)
#define pthread_create                         fake_pthread_create
#define kill(...)                              fake_kill(__VA_ARGS__)
#define memfd_create(...)                      fake_memfd_create(__VA_ARGS__)
#define shm_open(...)                          fake_shm_open(__VA_ARGS__)
#define ftruncate(...)                         fake_ftruncate(__VA_ARGS__)
#define posix_spawn_file_actions_init(...)     fake_posix_spawn_file_actions_init(__VA_ARGS__)
#define posix_spawn_file_actions_addclose(...) fake_posix_spawn_file_actions_addclose(__VA_ARGS__)
#define posix_spawn_file_actions_adddup2(...)  fake_posix_spawn_file_actions_adddup2(__VA_ARGS__)
#define posix_spawn_file_actions_addopen(...)  fake_posix_spawn_file_actions_addopen(__VA_ARGS__)
#define posix_spawn_file_actions_addchdir_np(...)                                                  \
 fake_posix_spawn_file_actions_addchdir_np(__VA_ARGS__)
#define posix_spawn_file_actions_addclosefrom_np(...)                                              \
 fake_posix_spawn_file_actions_addclosefrom_np(__VA_ARGS__)
#define posix_spawnattr_init(...)          fake_posix_spawnattr_init(__VA_ARGS__)
#define posix_spawnattr_setsigmask(...)    fake_posix_spawnattr_setsigmask(__VA_ARGS__)
#define posix_spawnattr_setsigdefault(...) fake_posix_spawnattr_setsigdefault(__VA_ARGS__)
#define posix_spawnattr_setpgroup(...)     fake_posix_spawnattr_setpgroup(__VA_ARGS__)
#define posix_spawnattr_setflags(...)      fake_posix_spawnattr_setflags(__VA_ARGS__)
#define flock(...)                         fake_flock(__VA_ARGS__)
#define symlinkat(...)                     fake_symlinkat(__VA_ARGS__)
#define unlinkat(...)                      fake_unlinkat(__VA_ARGS__)
#define access(...)                        fake_access(__VA_ARGS__)
#define mkdir(...)                         fake_mkdir(__VA_ARGS__)
#define unlink(...)                        fake_unlink(__VA_ARGS__)
#define fstat(...)                         fake_fstat(__VA_ARGS__)
#define stat(...)                          fake_stat(__VA_ARGS__)
#define lstat(...)                         fake_lstat(__VA_ARGS__)
#define read(...)                          fake_read(__VA_ARGS__)
#define readv(...)                         fake_readv(__VA_ARGS__)
#define pread(...)                         fake_pread(__VA_ARGS__)
#define writev(...)                        fake_writev(__VA_ARGS__)
#define pwrite(...)                        fake_pwrite(__VA_ARGS__)
#define recv(...)                          fake_recv(__VA_ARGS__)
#define recvmsg(...)                       fake_recvmsg(__VA_ARGS__)
#define send(...)                          fake_send(__VA_ARGS__)
#define sendmsg(...)                       fake_sendmsg(__VA_ARGS__)
#define epoll_create1(...)                 fake_epoll_create1(__VA_ARGS__)
#define epoll_ctl(...)                     fake_epoll_ctl(__VA_ARGS__)
#define eventfd(...)                       fake_eventfd(__VA_ARGS__)
#define pipe2(...)                         fake_pipe2(__VA_ARGS__)
#define pipe(...)                          fake_pipe(__VA_ARGS__)
#define socketpair(...)                    fake_socketpair(__VA_ARGS__)
#define socket(...)                        fake_socket(__VA_ARGS__)
#define bind(...)                          fake_bind(__VA_ARGS__)
#define listen(...)                        fake_listen(__VA_ARGS__)
#define accept4(...)                       fake_accept4(__VA_ARGS__)
#define getsockopt(...)                    fake_getsockopt(__VA_ARGS__)
#define setsockopt(...)                    fake_setsockopt(__VA_ARGS__)
#define getsockname(...)                   fake_getsockname(__VA_ARGS__)
#define getpeername(...)                   fake_getpeername(__VA_ARGS__)
#define dup(...)                           fake_dup(__VA_ARGS__)
#define dup2(...)                          fake_dup2(__VA_ARGS__)
#define dup3(...)                          fake_dup3(__VA_ARGS__)
#define getentropy(...)                    fake_getentropy(__VA_ARGS__)
#define nice(...)                          fake_nice(__VA_ARGS__)
#define sched_setaffinity(...)             fake_sched_setaffinity(__VA_ARGS__)
#define epoll_wait(...)                    fake_epoll_wait(__VA_ARGS__)
#define connect(...)                       fake_connect(__VA_ARGS__)
#define write(...)                         fake_write(__VA_ARGS__)
#define poll(...)                          fake_poll(__VA_ARGS__)
#define ppoll(...)                         fake_ppoll(__VA_ARGS__)
#define close(...)                         fake_close(__VA_ARGS__)
#define fcntl(...)                         fake_fcntl(__VA_ARGS__)
#define ioctl(...)                         fake_ioctl(__VA_ARGS__)
#define open(...)                          fake_open(__VA_ARGS__)
#define shm_unlink(...)                    fake_shm_unlink(__VA_ARGS__)
#define openat(...)                        fake_openat(__VA_ARGS__)
#define opendir(...)                       fake_opendir(__VA_ARGS__)
#define syscall                            fake_syscall
#define MTASK_IMPLEMENTATION
#include "../mtask_proc.h"
#undef mmap
#undef munmap
#undef fork
#undef posix_spawn
#undef posix_spawnp
#undef waitpid
#undef waitid
#undef pthread_create
#undef kill
#undef memfd_create
#undef shm_open
#undef ftruncate
#undef posix_spawn_file_actions_init
#undef posix_spawn_file_actions_addclose
#undef posix_spawn_file_actions_adddup2
#undef posix_spawn_file_actions_addopen
#undef posix_spawn_file_actions_addchdir_np
#undef posix_spawn_file_actions_addclosefrom_np
#undef posix_spawnattr_init
#undef posix_spawnattr_setsigmask
#undef posix_spawnattr_setsigdefault
#undef posix_spawnattr_setpgroup
#undef posix_spawnattr_setflags
#undef flock
#undef symlinkat
#undef unlinkat
#undef access
#undef mkdir
#undef unlink
#undef fstat
#undef stat
#undef lstat
#undef read
#undef readv
#undef pread
#undef writev
#undef pwrite
#undef recv
#undef recvmsg
#undef send
#undef sendmsg
#undef epoll_create1
#undef epoll_ctl
#undef eventfd
#undef pipe2
#undef pipe
#undef socketpair
#undef socket
#undef bind
#undef listen
#undef accept4
#undef getsockopt
#undef setsockopt
#undef getsockname
#undef getpeername
#undef dup
#undef dup2
#undef dup3
#undef getentropy
#undef nice
#undef sched_setaffinity
#undef epoll_wait
#undef connect
#undef write
#undef poll
#undef ppoll
#undef close
#undef fcntl
#undef ioctl
#undef open
#undef shm_unlink
#undef openat
#undef opendir
#undef syscall

#include "testing_proc.h"

/* ---- what must balance ---- */

enum { ROUNDS = 6 }; /* what is made for later may come bit by bit */

typedef struct balance {
    long blocks;
    long maps;
    long children;
    int descriptors;
    size_t tasks;
} balance;

/* Children that nobody holds any more are taken note of by a look at those that are left. */
static balance take_balance(void) {
    mtask_loop *loop = mtask_loop_current();
    mtask_proc_info info;
    size_t count;
    balance now;
    (void)mtask_proc_enumerate(&info, 1, &count);
    now.blocks = look(&live_blocks);
    now.maps = look(&live_maps);
    now.children = look(&live_children);
    now.descriptors = count_fds();
    now.tasks = loop != NULL ? mtask_loop_pending(loop) : 0;
    return now;
}

static bool is_balanced(const balance *a, const balance *b) {
    return a->blocks == b->blocks && a->maps == b->maps && a->children == b->children &&
           a->descriptors == b->descriptors && a->tasks == b->tasks;
}

/* ---- an operation, and what may happen to it ---- */

#define LONG MTASK_SEC(20) /* nothing waits so long */

#define POINT(at) (UINT64_C(1) << (at))

/* Points where it does not matter that calls fail: there is another way, or nothing is lost. */
#ifdef MTASK_FORCE_POSIX
# define SOMETIMES_QUIET POINT(AT_FCNTL)
#else
# define SOMETIMES_QUIET 0
#endif
#define QUIET                                                                                      \
 (POINT(AT_CLOSE) | POINT(AT_REAP) | POINT(AT_PIDFD) | POINT(AT_STAT) | POINT(AT_OPTION) |         \
  POINT(AT_LOCK) | SOMETIMES_QUIET)

enum {
    IN_TASK = 1,
    IN_THREAD = 2,
    ANYWHERE = IN_TASK | IN_THREAD,
    ONCE = 4,     /* after a refusal it cannot be done again */
    LASTING = 8,  /* MTASK_BROKEN stays */
    KILLS = 16,   /* it sends a signal, and does not wait for what comes of it */
    CROWDED = 32, /* another thread has a part in it */
    POOL = 64     /* a thread of the pool's tries again, without end */
};

/* One thing that is done with mtask_proc.h. */
typedef struct operation {
    const char *name;
    unsigned how;
    void (*set_up)(void);        /* nothing fails yet; in the same task or thread */
    mtask_status (*act)(void);   /* what may fail: one call */
    void (*check)(mtask_status); /* what must hold then; with how it ended at first */
    void (*tear_down)(void);     /* nothing fails any more */
    mtask_status normal;         /* how it ends if nothing fails */
    uint64_t odd;                /* points where failures are told though those of others
                                    are not, or the other way round */
} operation;

/* What an operation works on; zeroed before each. */
static struct scene {
    mtask_proc *proc;
    mtask_proc *other;
    mtask_cmd *cmd;
    mtask_cmd_result result;
    mtask_conn *ends[2];
    mtask_conn_listener *listener;
    mtask_shm shm, attached;
    mtask_array array, same_array;
    mtask_arena arena, same_arena;
    void *piece;
    mtask_procpool *pool;
    mtask_future *future;
    mtask_procimap *imap;
    mtask_buf buf;
    int fd;
    int64_t left; /* inputs */
    char address[MTASK_ADDRESS_TEXT];
    char path[64];
    testing_crowd crowd;
    bool stop;
    int turns; /* of a kind that the operation counts */
} now;

/* What is done to it. */
typedef struct plan {
    const operation *what;
    unsigned where;
    point at;
    long first;
    long number;
    int error;
    bool visible; /* it is told of */
    bool either;  /* or makes no difference */
} plan;

static char story[300]; /* which one is being tried, for the one who reads of a failure */

static void tell_story(const plan *it) {
    snprintf(story, sizeof story, "%s in a %s, %ld failures from number %ld on at %s: %s",
             it->what->name, it->where == IN_TASK ? "task" : "thread", it->number, it->first,
             point_names[it->at], strerror(it->error));
}

/* Fails the test, with the story, unless the condition holds. */
#define must(condition)                                                                            \
 ((condition) ? (void)0                                                                            \
              : _ck_assert_failed(__FILE__, __LINE__, "Check", "%s; %s", #condition, story))

static mtask_outcome ended_as; /* the last process, or task */

static void status_must_be(mtask_status actual, mtask_status expected, int line) {
    if (actual != expected)
        _ck_assert_failed(__FILE__, line, "Status", "%s, not %s; errno: %s; it ended: %s; %s",
                          mtask_status_name(actual), mtask_status_name(expected), strerror(errno),
                          ended_as.text, story);
}

#define must_be(actual, expected) status_must_be((actual), (expected), __LINE__)

/* ---- bytes ---- */

static const char text[] = "what is sent, and what is to come back";

static void set_up_nothing(void) {
}

static void tear_down_nothing(void) {
}

static void tear_down_buf(void) {
    mtask_buf_free(&now.buf);
}

static void check_text(mtask_status status) {
    (void)status;
    must(now.buf.size == sizeof text && memcmp(now.buf.data, text, sizeof text) == 0);
    must(now.buf.data[sizeof text] == '\0');
}

static mtask_status append_text(void) {
    mtask_status status = mtask_buf_append(&now.buf, text, sizeof text);
    must(now.buf.size == (status == MTASK_OK ? sizeof text : 0));
    return status;
}

static mtask_status print_text(void) {
    mtask_status status = mtask_buf_printf(&now.buf, "%s%c", text, 0);
    must(now.buf.size == (status == MTASK_OK ? sizeof text : 0));
    return status;
}

/* ---- tasks of other processes ---- */

static void *answer(void *arg) {
    (void)arg;
    return (void *)42;
}

static void *stay(void *arg) {
    for (;;)
        (void)pause();
    return arg;
}

static mtask_status echo(const void *in, size_t size, mtask_buf *out) {
    return mtask_buf_append(out, in, size);
}

enum { BIG = 50000 }; /* bytes: more than go at once, and less than fit into a socket */

static char big[BIG] = {1, 2, 3, [BIG - 1] = 4}; /* other processes have it, too */

/* Its input twice, as often as that goes into BIG. */
static mtask_status enlarge(const void *in, size_t size, mtask_buf *out) {
    mtask_status status = MTASK_OK;
    for (size_t done = 0; done + size <= BIG && status == MTASK_OK; done += size)
        status = mtask_buf_append(out, in, size);
    return status;
}

static mtask_status take_big(const void *in, size_t size, mtask_buf *out) {
    (void)out;
    return size == BIG && memcmp(in, big, BIG) == 0 ? MTASK_OK : MTASK_INVALID;
}

static mtask_status end_itself(const void *in, size_t size, mtask_buf *out) {
    (void)in;
    (void)size;
    (void)out;
    (void)raise(SIGKILL);
    return MTASK_OK;
}

/* ---- processes ---- */

static mtask_status start_fork(void) {
    return mtask_proc_start(&now.proc, answer, NULL);
}

static mtask_status start_by(mtask_proc_method method) {
    mtask_proc_desc desc = {.call = echo, .in = text, .in_size = sizeof text, .method = method};
    desc.name = "echo";
    return mtask_proc_start_ex(&now.proc, &desc);
}

static mtask_status start_copy(void) {
    return start_by(MTASK_PROC_FORK);
}

static mtask_status start_anew(void) {
    return start_by(MTASK_PROC_SPAWN);
}

static mtask_status start_by_server(void) {
    return start_by(MTASK_PROC_FORKSERVER);
}

/* One that has all that a description can say. */
static mtask_status start_full_by(mtask_proc_method method) {
    static unsigned cpu;
    mtask_proc_desc desc = {.call = echo, .in = text, .in_size = sizeof text, .method = method};
    cpu_set_t all;
    CPU_ZERO(&all);
    must(sched_getaffinity(0, sizeof all, &all) == 0);
    for (cpu = 0; !CPU_ISSET(cpu, &all);)
        cpu++;
#ifndef MTASK_FORCE_POSIX
    desc.cpus = &cpu;
    desc.cpu_count = 1;
#endif
    desc.nice = 1;
    desc.daemon = true;
    desc.fds = &now.fd;
    desc.fd_count = 1;
    return mtask_proc_start_ex(&now.proc, &desc);
}

static mtask_status start_full_copy(void) {
    return start_full_by(MTASK_PROC_FORK);
}

static mtask_status start_full_anew(void) {
    return start_full_by(MTASK_PROC_SPAWN);
}

static mtask_status start_full_by_server(void) {
    return start_full_by(MTASK_PROC_FORKSERVER);
}

static void set_up_fd(void) {
    now.fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    must(now.fd >= 3);
}

static void check_answer(mtask_status status) {
    (void)status;
    must_be(mtask_proc_join(now.proc, &ended_as, LONG), MTASK_OK);
    must(ended_as.value == (void *)42);
}

static void check_echo(mtask_status status) {
    (void)status;
    must_be(mtask_proc_join(now.proc, &ended_as, LONG), MTASK_OK);
    mtask_buf_free(&now.buf);
    must_be(mtask_proc_result(now.proc, &now.buf), MTASK_OK);
    must(now.buf.size == sizeof text && memcmp(now.buf.data, text, sizeof text) == 0);
}

/* Ends the process, whatever it does. */
static void finish_proc(mtask_proc *proc) {
    if (proc == NULL)
        return;
    must_be(mtask_proc_kill(proc), MTASK_OK);
    must(mtask_proc_join(proc, NULL, LONG) != MTASK_TIMEOUT);
    must_be(mtask_proc_close(proc), MTASK_OK);
}

static void tear_down_proc(void) {
    finish_proc(now.proc);
    finish_proc(now.other);
    mtask_buf_free(&now.buf);
    if (now.fd >= 0)
        must(close(now.fd) == 0);
}

static void set_up_started(void) {
    must_be(start_copy(), MTASK_OK);
}

static void set_up_ended(void) {
    set_up_started();
    must_be(mtask_proc_join(now.proc, NULL, LONG), MTASK_OK);
}

static void set_up_lingering(void) {
    must_be(mtask_proc_start(&now.proc, stay, NULL), MTASK_OK);
}

static mtask_status join(void) {
    mtask_status status = mtask_proc_join(now.proc, &ended_as, LONG);
    must(status != MTASK_FAILED || ended_as.status != MTASK_OK);
    return status;
}

static mtask_status join_in_vain(void) {
    return mtask_proc_join(now.proc, NULL, MTASK_US(200));
}

static mtask_status take_result(void) {
    mtask_buf_free(&now.buf);
    return mtask_proc_result(now.proc, &now.buf);
}

static void check_result(mtask_status status) {
    (void)status;
    must(now.buf.size == sizeof text && memcmp(now.buf.data, text, sizeof text) == 0);
}

static mtask_status take_sentinel(void) {
    int fd = -1;
    mtask_status status = mtask_proc_sentinel(now.proc, &fd);
    must(status != MTASK_OK || fd >= 0);
    return status == MTASK_UNSUPPORTED ? MTASK_OK : status;
}

static mtask_status kill_it(void) {
    return mtask_proc_kill(now.proc);
}

static void check_killed(mtask_status status) {
    int code = 0;
    (void)status;
    must_be(mtask_proc_join(now.proc, &ended_as, LONG), MTASK_FAILED);
    must_be(ended_as.status, MTASK_CRASHED);
    must_be(mtask_proc_exitcode(now.proc, &code), MTASK_OK);
    must(code == -SIGKILL);
}

static mtask_status enumerate(void) {
    mtask_proc_info infos[4];
    size_t count = 99;
    mtask_status status = mtask_proc_enumerate(infos, 4, &count);
    must(status != MTASK_OK || (count == 1 && infos[0].pid == mtask_proc_pid(now.proc)));
    return status;
}

/* One that ends by itself, and a daemon, which does not. */
static void set_up_two(void) {
    mtask_proc_desc desc = {.fn = stay, .daemon = true};
    must_be(start_fork(), MTASK_OK);
    must_be(mtask_proc_start_ex(&now.other, &desc), MTASK_OK);
}

static mtask_status join_all(void) {
    return mtask_proc_join_all(LONG);
}

static void check_all_joined(mtask_status status) {
    (void)status;
    must(!mtask_proc_is_alive(now.proc) && !mtask_proc_is_alive(now.other));
}

/* ---- the fork server ---- */

static void set_up_no_server(void) {
    must_be(mtask_forkserver_stop(), MTASK_OK);
    must(mtask_forkserver_pid() == 0);
}

static mtask_status start_server(void) {
    return mtask_forkserver_start(NULL);
}

static void set_up_server(void) {
    must_be(start_server(), MTASK_OK);
    must(mtask_forkserver_pid() > 0);
}

static void set_up_server_fd(void) {
    set_up_server();
    set_up_fd();
}

static void check_server(mtask_status status) {
    (void)status;
    must(mtask_forkserver_pid() > 0);
    must_be(start_by_server(), MTASK_OK);
    check_echo(MTASK_OK);
}

static void tear_down_server(void) {
    tear_down_proc();
    must_be(mtask_forkserver_stop(), MTASK_OK);
}

static mtask_status stop_server(void) {
    return mtask_forkserver_stop();
}

static const operation process_operations[] = {
    {"buf_append", IN_THREAD, set_up_nothing, append_text, check_text, tear_down_buf, MTASK_OK, 0},
    {"buf_printf", IN_THREAD, set_up_nothing, print_text, check_text, tear_down_buf, MTASK_OK, 0},
    {"proc_start", ANYWHERE, set_up_nothing, start_fork, check_answer, tear_down_proc, MTASK_OK, 0},
    {"proc_start_ex, fork", ANYWHERE, set_up_fd, start_full_copy, check_echo, tear_down_proc,
     MTASK_OK, 0},
    {"proc_start_ex, spawn", ANYWHERE, set_up_nothing, start_anew, check_echo, tear_down_proc,
     MTASK_OK, 0},
    {"proc_start_ex, spawn, all", IN_THREAD, set_up_fd, start_full_anew, check_echo, tear_down_proc,
     MTASK_OK, 0},
    {"proc_start_ex, server", ANYWHERE, set_up_server, start_by_server, check_echo, tear_down_proc,
     MTASK_OK, POINT(AT_SEND)},
    {"proc_start_ex, server, all", IN_THREAD, set_up_server_fd, start_full_by_server, check_echo,
     tear_down_proc, MTASK_OK, POINT(AT_SEND)},
    {"forkserver_start", IN_THREAD, set_up_no_server, start_server, check_server, tear_down_server,
     MTASK_OK, 0},
    {"forkserver_stop", IN_THREAD, set_up_server, stop_server, NULL, tear_down_server, MTASK_OK, 0},
    {"proc_join", ANYWHERE, set_up_started, join, check_echo, tear_down_proc, MTASK_OK,
     POINT(AT_PREAD)},
    {"proc_join in vain", ANYWHERE, set_up_lingering, join_in_vain, NULL, tear_down_proc,
     MTASK_TIMEOUT, 0},
    {"proc_result", ANYWHERE, set_up_ended, take_result, check_result, tear_down_proc, MTASK_OK,
     POINT(AT_PREAD)},
    {"proc_sentinel", ANYWHERE, set_up_started, take_sentinel, check_echo, tear_down_proc, MTASK_OK,
     POINT(AT_PIDFD)},
    {"proc_kill", ANYWHERE | KILLS, set_up_lingering, kill_it, check_killed, tear_down_proc,
     MTASK_OK, 0},
    {"proc_enumerate", ANYWHERE, set_up_lingering, enumerate, NULL, tear_down_proc, MTASK_OK, 0},
    {"proc_join_all", ANYWHERE, set_up_two, join_all, check_all_joined, tear_down_proc, MTASK_OK,
     0},
};

/* ---- commands ---- */

static const char *const cat[] = {"cat", NULL};
static const char *const idle[] = {"sleep", "60", NULL};
static const char *const endless[] = {"cat", "/dev/zero", NULL};
static const char *const full_line[] = {
    "cat; printf '%s' \"$NAME\" >&2; test \"$PWD\" = /; exit $?", "x", NULL};

static mtask_status run_plain(void) {
    mtask_status status = mtask_cmd_run(cat, &(mtask_cmd_opts){.in = MTASK_CMD_NULL}, NULL);
    return status;
}

/* Runs it; what it fills in is freed the same way however it ends. */
static mtask_status run_command(const char *const *argv, const mtask_cmd_opts *opts) {
    mtask_status status;
    int seen;
    mtask_cmd_result_free(&now.result);
    memset(&now.result, 0x5a, sizeof now.result);
    status = mtask_cmd_run(argv, opts, &now.result);
    seen = errno;
    must(now.result.out.size < 1 << 20 && now.result.err.size < 1 << 20);
    errno = seen;
    return status;
}

static mtask_status run_captured(void) {
    mtask_cmd_opts opts = {.input = text, .input_size = sizeof text, .capture = true};
    return run_command(cat, &opts);
}

static void check_captured(mtask_status status) {
    (void)status;
    must(now.result.code == 0 && now.result.out.size == sizeof text);
    must(memcmp(now.result.out.data, text, sizeof text) == 0 && now.result.err.size == 0);
}

static mtask_status run_fully(void) {
    static const char *const env[] = {"PATH=/usr/bin:/bin", "NAME=value", NULL};
    mtask_cmd_opts opts = {.input = big, .input_size = BIG, .capture = true, .shell = true};
    opts.timeout = LONG;
    opts.check = true;
    opts.session = true;
    opts.cwd = "/";
    opts.env = env;
    opts.fds = &now.fd;
    opts.fd_count = 1;
    return run_command(full_line, &opts);
}

static void check_fully(mtask_status status) {
    (void)status;
    must(now.result.code == 0 && now.result.out.size == BIG && now.result.err.size == 5);
    must(memcmp(now.result.err.data, "value", 5) == 0);
}

static mtask_status run_too_long(void) {
    mtask_cmd_opts opts = {.capture = true, .timeout = MTASK_MS(1)};
    return run_command(idle, &opts);
}

static mtask_status run_too_much(void) {
    mtask_cmd_opts opts = {.capture = true, .limit = 1000};
    return run_command(endless, &opts);
}

static void tear_down_run(void) {
    mtask_cmd_result_free(&now.result);
    if (now.fd >= 0)
        must(close(now.fd) == 0);
}

static const mtask_cmd_opts piped = {.in = MTASK_CMD_PIPE, .out = MTASK_CMD_PIPE};

static mtask_status start_command(void) {
    return mtask_cmd_start(&now.cmd, cat, &piped);
}

static void set_up_command(void) {
    must_be(start_command(), MTASK_OK);
}

static mtask_status communicate(void) {
    mtask_status status = mtask_cmd_communicate(now.cmd, big, BIG, 0, &now.result, LONG);
    must(status == MTASK_OK || now.result.out.size == 0);
    return status;
}

static void check_communicated(mtask_status status) {
    (void)status;
    must(now.result.code == 0 && now.result.out.size == BIG);
    must(memcmp(now.result.out.data, big, BIG) == 0);
}

static void check_command(mtask_status status) {
    must_be(communicate(), MTASK_OK);
    check_communicated(status);
}

static void tear_down_command(void) {
    mtask_cmd_destroy(now.cmd);
    mtask_cmd_result_free(&now.result);
}

static void set_up_finished(void) {
    set_up_command();
    mtask_cmd_close_stdin(now.cmd);
}

static mtask_status wait_command(void) {
    int code = -1;
    mtask_status status = mtask_cmd_wait(now.cmd, &code, LONG);
    must(status != MTASK_OK || code == 0);
    return status;
}

static mtask_status poll_command(void) {
    return mtask_cmd_poll(now.cmd, NULL);
}

static mtask_status kill_command(void) {
    return mtask_cmd_kill(now.cmd);
}

static void check_killed_command(mtask_status status) {
    int code = 0;
    (void)status;
    must_be(mtask_cmd_wait(now.cmd, &code, LONG), MTASK_OK);
    must(code == -SIGKILL);
}

static const operation command_operations[] = {
    {"cmd_run", ANYWHERE, set_up_nothing, run_plain, NULL, tear_down_nothing, MTASK_OK, 0},
    {"cmd_run, captured", ANYWHERE, set_up_nothing, run_captured, check_captured, tear_down_run,
     MTASK_OK, POINT(AT_MEMORY)},
    {"cmd_run, all", ANYWHERE, set_up_fd, run_fully, check_fully, tear_down_run, MTASK_OK,
     POINT(AT_MEMORY)},
    {"cmd_run, too long", ANYWHERE, set_up_nothing, run_too_long, NULL, tear_down_run,
     MTASK_TIMEOUT, POINT(AT_MEMORY) | POINT(AT_READ) | POINT(AT_CTL)},
    {"cmd_run, too much", ANYWHERE, set_up_nothing, run_too_much, NULL, tear_down_run,
     MTASK_OVERFLOW, POINT(AT_MEMORY) | POINT(AT_CTL)},
    {"cmd_start", ANYWHERE, set_up_nothing, start_command, check_command, tear_down_command,
     MTASK_OK, 0},
    {"cmd_communicate", ANYWHERE, set_up_command, communicate, check_communicated,
     tear_down_command, MTASK_OK, POINT(AT_MEMORY)},
    {"cmd_wait", ANYWHERE, set_up_finished, wait_command, NULL, tear_down_command, MTASK_OK, 0},
    {"cmd_poll", IN_THREAD, set_up_command, poll_command, NULL, tear_down_command, MTASK_TIMEOUT,
     0},
    {"cmd_kill", IN_THREAD | KILLS, set_up_command, kill_command, check_killed_command,
     tear_down_command, MTASK_OK, 0},
};

/* ---- connections ---- */

static mtask_status make_pipe(void) {
    return mtask_pipe(&now.ends[0], &now.ends[1], true);
}

static void set_up_pipe(void) {
    must_be(make_pipe(), MTASK_OK);
}

static void receive(mtask_conn *conn, const void *expected, size_t size) {
    must_be(mtask_conn_recv(conn, &now.buf, LONG), MTASK_OK);
    must(now.buf.size == size && memcmp(now.buf.data, expected, size) == 0);
}

static void check_pipe(mtask_status status) {
    (void)status;
    for (int i = 0; i < 2; i++) {
        must_be(mtask_conn_send(now.ends[i], text, sizeof text, LONG), MTASK_OK);
        receive(now.ends[1 - i], text, sizeof text);
    }
}

static void tear_down_pipe(void) {
    for (int i = 0; i < 2; i++)
        must_be(mtask_conn_close(now.ends[i]), MTASK_OK);
    mtask_buf_free(&now.buf);
    if (now.fd >= 0)
        must(close(now.fd) == 0);
}

/* A descriptor of a connection, of which another is to be made. */
static void set_up_open(void) {
    set_up_pipe();
    now.fd = dup(mtask_conn_fd(now.ends[0]));
    must(now.fd >= 0 && mtask_conn_close(now.ends[0]) == MTASK_OK);
    now.ends[0] = NULL;
}

static mtask_status open_conn(void) {
    mtask_status status = mtask_conn_open(&now.ends[0], now.fd);
    if (status == MTASK_OK)
        now.fd = -1;
    return status;
}

static mtask_status send_small(void) {
    return mtask_conn_send(now.ends[0], text, sizeof text, LONG);
}

static void check_small(mtask_status status) {
    (void)status;
    receive(now.ends[1], text, sizeof text);
}

static mtask_status send_big(void) {
    return mtask_conn_send(now.ends[0], big, BIG, LONG);
}

static void check_big(mtask_status status) {
    (void)status;
    receive(now.ends[1], big, BIG);
}

static void set_up_small(void) {
    set_up_pipe();
    must_be(send_small(), MTASK_OK);
}

static void set_up_big(void) {
    set_up_pipe();
    must_be(send_big(), MTASK_OK);
}

static mtask_status receive_any(void) {
    return mtask_conn_recv(now.ends[1], &now.buf, LONG);
}

static void check_received(mtask_status status) {
    (void)status;
    must(now.buf.size == sizeof text && memcmp(now.buf.data, text, sizeof text) == 0);
}

static void check_big_received(mtask_status status) {
    (void)status;
    must(now.buf.size == BIG && memcmp(now.buf.data, big, BIG) == 0);
}

static mtask_status receive_into(void) {
    char got[100];
    size_t size = 0;
    mtask_status status = mtask_conn_recv_into(now.ends[1], got, sizeof got, &size, LONG);
    must(status != MTASK_OK || (size == sizeof text && memcmp(got, text, size) == 0));
    return status;
}

static void set_up_descriptor(void) {
    set_up_pipe();
    set_up_fd();
}

static mtask_status send_descriptor(void) {
    return mtask_conn_send_fds(now.ends[0], text, sizeof text, &now.fd, 1, LONG);
}

static mtask_status receive_descriptor(void) {
    int fd = -1;
    size_t count = 0;
    mtask_status status = mtask_conn_recv_fds(now.ends[1], &now.buf, &fd, 1, &count, LONG);
    int seen = errno;
    if (status == MTASK_OK && count == 1)
        must(fd >= 0 && (fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0 && close(fd) == 0);
    else /* what could not be had is lost, but the message is not */
        must(count == 0 && (status != MTASK_OK || now.turns > 0));
    now.turns += status == MTASK_SYSTEM && seen == EMFILE;
    errno = seen;
    return status;
}

static void check_descriptor(mtask_status status) {
    (void)status;
    must_be(receive_descriptor(), MTASK_OK);
    check_received(MTASK_OK);
}

static void set_up_sent_descriptor(void) {
    set_up_descriptor();
    must_be(send_descriptor(), MTASK_OK);
}

static mtask_status poll_conn(void) {
    return mtask_conn_poll(now.ends[1], LONG);
}

static mtask_status poll_in_vain(void) {
    return mtask_conn_poll(now.ends[1], MTASK_US(100));
}

static mtask_status wait_for_two(void) {
    mtask_conn_case cases[3] = {
        {now.ends[0], -1, true}, {NULL, -1, true}, {now.ends[1], -1, false}};
    mtask_status status = mtask_conn_wait(cases, 3, LONG);
    if (status == MTASK_OK)
        must(!cases[0].ready && !cases[1].ready && cases[2].ready);
    return status;
}

static mtask_status close_conn(void) {
    mtask_status status = mtask_conn_close(now.ends[0]);
    now.ends[0] = NULL;
    return status;
}

static void check_closed(mtask_status status) {
    (void)status;
    must_be(receive_any(), MTASK_CLOSED);
}

static const operation connection_operations[] = {
    {"pipe", ANYWHERE, set_up_nothing, make_pipe, check_pipe, tear_down_pipe, MTASK_OK, 0},
    {"conn_open", ANYWHERE, set_up_open, open_conn, check_pipe, tear_down_pipe, MTASK_OK, 0},
    {"conn_send", ANYWHERE, set_up_pipe, send_small, check_small, tear_down_pipe, MTASK_OK, 0},
    {"conn_send, big", ANYWHERE | LASTING, set_up_pipe, send_big, check_big, tear_down_pipe,
     MTASK_OK, 0},
    {"conn_recv", ANYWHERE, set_up_small, receive_any, check_received, tear_down_pipe, MTASK_OK, 0},
    {"conn_recv, big", ANYWHERE, set_up_big, receive_any, check_big_received, tear_down_pipe,
     MTASK_OK, 0},
    {"conn_recv_into", ANYWHERE, set_up_small, receive_into, NULL, tear_down_pipe, MTASK_OK, 0},
    {"conn_send_fds", ANYWHERE, set_up_descriptor, send_descriptor, check_descriptor,
     tear_down_pipe, MTASK_OK, 0},
    {"conn_recv_fds", ANYWHERE, set_up_sent_descriptor, receive_descriptor, check_received,
     tear_down_pipe, MTASK_OK, 0},
    {"conn_poll", ANYWHERE, set_up_small, poll_conn, check_small, tear_down_pipe, MTASK_OK, 0},
    {"conn_poll in vain", ANYWHERE, set_up_pipe, poll_in_vain, check_pipe, tear_down_pipe,
     MTASK_TIMEOUT, 0},
    {"conn_wait", ANYWHERE, set_up_small, wait_for_two, check_small, tear_down_pipe, MTASK_OK, 0},
    {"conn_close", ANYWHERE | ONCE, set_up_pipe, close_conn, check_closed, tear_down_pipe, MTASK_OK,
     POINT(AT_CLOSE)},
};

/* ---- listeners ---- */

/* Stands for a digest: both sides only have to come to the same. */
static bool digest(const char *name, const void *key, size_t key_size, const void *data,
                   size_t size, unsigned char *mac, size_t *mac_size, void *ctx) {
    const unsigned char *parts[] = {(const unsigned char *)key, (const unsigned char *)data};
    (void)ctx;
    if (strcmp(name, "sha256") != 0)
        return false;
    memset(mac, 0, 32);
    for (size_t i = 0; i < key_size + size; i++)
        mac[i % 32] = (unsigned char)(mac[i % 32] * 33 +
                                      (i < key_size ? parts[0][i] : parts[1][i - key_size]));
    *mac_size = 32;
    return true;
}

static const mtask_conn_desc secret = {.key = "key", .key_size = 3, .hmac = digest};

static void check_listening(mtask_status status) {
    mtask_address address;
    (void)status;
    must_be(mtask_conn_listener_address(now.listener, &address), MTASK_OK);
    (void)mtask_address_text(&address, now.address, sizeof now.address);
    must(mtask_conn_listener_fd(now.listener) >= 0);
}

static mtask_status listen_tcp(void) {
    return mtask_conn_listener_open(&now.listener, "127.0.0.1:0", &secret);
}

static void set_up_path(void) {
    snprintf(now.path, sizeof now.path, "/tmp/mtask-test-XXXXXX");
    must(mkdtemp(now.path) != NULL);
}

static mtask_status listen_path(void) {
    char address[100];
    snprintf(address, sizeof address, "unix:%s/s", now.path);
    return mtask_conn_listener_open(&now.listener, address, NULL);
}

/* Nothing is left where a Unix socket was. */
static void tear_down_listener(void) {
    mtask_conn_listener_close(now.listener);
    if (now.path[0] != '\0')
        must(rmdir(now.path) == 0);
}

/* The other side, of which no call fails: comes again until its greeting is answered. */
static void be_client(testing_member *self) {
    mtask_conn *conn;
    mtask_buf got = {NULL, 0, 0};
    spared = true;
    for (bool answered = false; !answered && !__atomic_load_n(&now.stop, __ATOMIC_SEQ_CST);) {
        if (mtask_conn_connect(&conn, now.address, &secret, LONG) != MTASK_OK)
            continue;
        if (mtask_conn_send(conn, text, sizeof text, LONG) == MTASK_OK)
            answered = mtask_conn_recv(conn, &got, LONG) == MTASK_OK;
        (void)mtask_conn_close(conn);
    }
    mtask_buf_free(&got);
    self->number = 1;
}

/* The same as a server: goes on until a client answers. */
static void be_server(testing_member *self) {
    mtask_conn *conn;
    mtask_buf got = {NULL, 0, 0};
    spared = true;
    for (bool answered = false; !answered && !__atomic_load_n(&now.stop, __ATOMIC_SEQ_CST);) {
        if (mtask_conn_listener_accept(now.listener, &conn, MTASK_MS(5)) != MTASK_OK)
            continue;
        if (mtask_conn_send(conn, text, sizeof text, LONG) == MTASK_OK)
            answered = mtask_conn_recv(conn, &got, LONG) == MTASK_OK;
        (void)mtask_conn_close(conn);
    }
    mtask_buf_free(&got);
    self->number = 1;
}

static void set_up_other_side(void (*other)(testing_member *self)) {
    must_be(listen_tcp(), MTASK_OK);
    check_listening(MTASK_OK);
    (void)testing_crowd_add(&now.crowd, other, NULL);
}

static void set_up_client(void) {
    set_up_other_side(be_client);
}

static void set_up_server_side(void) {
    set_up_other_side(be_server);
}

static mtask_status accept_conn(void) {
    mtask_status status = mtask_conn_listener_accept(now.listener, &now.ends[0], LONG);
    must((status == MTASK_OK) == (now.ends[0] != NULL));
    return status;
}

static mtask_status connect_conn(void) {
    mtask_status status = mtask_conn_connect(&now.ends[0], now.address, &secret, LONG);
    must((status == MTASK_OK) == (now.ends[0] != NULL));
    return status;
}

/* One that was refused may be seen by the other side as one that left. */
static void check_other_side(mtask_status status) {
    (void)status;
    receive(now.ends[0], text, sizeof text);
    must_be(mtask_conn_send(now.ends[0], text, sizeof text, LONG), MTASK_OK);
    while (!testing_has_finished(&now.crowd.members[0]))
        (void)mtask_sleep(MTASK_US(50));
}

static void tear_down_other_side(void) {
    __atomic_store_n(&now.stop, true, __ATOMIC_SEQ_CST);
    testing_crowd_join(&now.crowd);
    must_be(mtask_conn_close(now.ends[0]), MTASK_OK);
    mtask_buf_free(&now.buf);
    tear_down_listener();
}

static const operation listener_operations[] = {
    {"listener_open, TCP", IN_THREAD, set_up_nothing, listen_tcp, check_listening,
     tear_down_listener, MTASK_OK, 0},
    {"listener_open, Unix", IN_THREAD, set_up_path, listen_path, check_listening,
     tear_down_listener, MTASK_OK, 0},
    {"listener_accept", ANYWHERE | CROWDED, set_up_client, accept_conn, check_other_side,
     tear_down_other_side, MTASK_OK, 0},
    {"conn_connect", ANYWHERE | CROWDED, set_up_server_side, connect_conn, check_other_side,
     tear_down_other_side, MTASK_OK, 0},
};

/* ---- shared memory ---- */

/* Where locks between processes are missing, arrays and arenas may be, too. */
static mtask_status unless_unsupported(mtask_status status) {
    return status == MTASK_UNSUPPORTED && !MTASK__HAS_SHARED ? MTASK_OK : status;
}

/* A name of this process's. */
static const char *shared_name(void) {
    static char name[MTASK_SHM_NAME];
    snprintf(name, sizeof name, "failure-%ld", (long)getpid());
    return name;
}

/* Nobody has left a name. */
static void no_name_is_left(void) {
    mtask_shm found;
    must_be(mtask_shm_attach(&found, shared_name()), MTASK_NOT_FOUND);
}

static mtask_status create_shm(void) {
    return mtask_shm_create(&now.shm, NULL, 5000);
}

static mtask_status create_named(void) {
    return mtask_shm_create(&now.shm, shared_name(), 5000);
}

static void check_shm(mtask_status status) {
    (void)status;
    must(now.shm.data != NULL && now.shm.size == 5000 && now.shm.creator == getpid());
    for (size_t i = 0; i < now.shm.size; i++)
        must(((char *)now.shm.data)[i] == 0);
    memset(now.shm.data, 7, now.shm.size);
}

static void tear_down_shm(void) {
    if (now.attached.data != NULL)
        must_be(mtask_shm_close(&now.attached), MTASK_OK);
    if (now.shm.data != NULL)
        must_be(mtask_shm_close(&now.shm), MTASK_OK);
    no_name_is_left();
}

static void set_up_named(void) {
    must_be(create_named(), MTASK_OK);
    strcpy((char *)now.shm.data, "shared");
}

static mtask_status attach_named(void) {
    return mtask_shm_attach(&now.attached, shared_name());
}

static mtask_status attach_fd(void) {
    return mtask_shm_attach_fd(&now.attached, now.shm.fd);
}

static void check_attached(mtask_status status) {
    (void)status;
    must(now.attached.size == 5000 && now.attached.data != now.shm.data);
    must(strcmp((char *)now.attached.data, "shared") == 0);
}

static mtask_status unlink_shm(void) {
    return mtask_shm_unlink(&now.shm);
}

static void check_unlinked(mtask_status status) {
    (void)status;
    no_name_is_left();
}

static mtask_status close_shm(void) {
    mtask_status status = mtask_shm_close(&now.shm);
    must(now.shm.data == NULL);
    return status;
}

/* If the name could not be taken away, another block may have it nevertheless. */
static void check_shm_closed(mtask_status status) {
    if (status != MTASK_OK) {
        set_up_named();
        must_be(close_shm(), MTASK_OK);
    }
}

static mtask_status create_array(void) {
    return unless_unsupported(mtask_array_create(&now.array, shared_name(), 100, sizeof(int64_t)));
}

static mtask_status use_array(void) {
    int64_t value = 7, got = 0;
    mtask_status status;
    if (now.array.core == NULL)
        return MTASK_OK;
    status = mtask_array_set(&now.array, 5, &value);
    if (status == MTASK_OK)
        status = mtask_array_get(&now.array, 5, &got);
    must(status != MTASK_OK || got == 7);
    return status;
}

static void set_up_array(void) {
    must_be(create_array(), MTASK_OK);
}

static mtask_status attach_array(void) {
    if (now.array.core == NULL)
        return MTASK_OK;
    return mtask_array_attach(&now.same_array, shared_name());
}

static void check_array(mtask_status status) {
    (void)status;
    must_be(use_array(), MTASK_OK);
}

static void tear_down_array(void) {
    if (now.same_array.core != NULL)
        must_be(mtask_array_close(&now.same_array), MTASK_OK);
    if (now.array.core != NULL)
        must_be(mtask_array_close(&now.array), MTASK_OK);
    no_name_is_left();
}

static mtask_status create_arena(void) {
    return unless_unsupported(mtask_arena_create(&now.arena, shared_name(), 10000));
}

static void set_up_arena(void) {
    must_be(create_arena(), MTASK_OK);
}

static mtask_status attach_arena(void) {
    if (now.arena.core == NULL)
        return MTASK_OK;
    return mtask_arena_attach(&now.same_arena, shared_name());
}

static mtask_status use_arena(void) {
    mtask_status status = MTASK_OK;
    if (now.arena.core == NULL)
        return MTASK_OK;
    if (now.piece == NULL)
        status = mtask_arena_alloc(&now.arena, 100, &now.piece);
    if (status == MTASK_OK)
        status = mtask_arena_free(&now.arena, now.piece);
    if (status == MTASK_OK)
        now.piece = NULL;
    return status;
}

static void check_arena(mtask_status status) {
    (void)status;
    must_be(use_arena(), MTASK_OK);
}

static void tear_down_arena(void) {
    if (now.same_arena.core != NULL)
        must_be(mtask_arena_close(&now.same_arena), MTASK_OK);
    if (now.arena.core != NULL)
        must_be(mtask_arena_close(&now.arena), MTASK_OK);
    no_name_is_left();
}

static const operation memory_operations[] = {
    {"shm_create", IN_THREAD, set_up_nothing, create_shm, check_shm, tear_down_shm, MTASK_OK, 0},
    {"shm_create, named", IN_THREAD, set_up_nothing, create_named, check_shm, tear_down_shm,
     MTASK_OK, 0},
    {"shm_attach", IN_THREAD, set_up_named, attach_named, check_attached, tear_down_shm, MTASK_OK,
     0},
    {"shm_attach_fd", IN_THREAD, set_up_named, attach_fd, check_attached, tear_down_shm, MTASK_OK,
     0},
    {"shm_unlink", IN_THREAD, set_up_named, unlink_shm, check_unlinked, tear_down_shm, MTASK_OK, 0},
    {"shm_close", IN_THREAD | ONCE, set_up_named, close_shm, check_shm_closed, tear_down_shm,
     MTASK_OK, 0},
    {"array_create", IN_THREAD, set_up_nothing, create_array, check_array, tear_down_array,
     MTASK_OK, 0},
    {"array_attach", IN_THREAD, set_up_array, attach_array, check_array, tear_down_array, MTASK_OK,
     0},
    {"array_get, array_set", ANYWHERE, set_up_array, use_array, check_array, tear_down_array,
     MTASK_OK, 0},
    {"arena_create", IN_THREAD, set_up_nothing, create_arena, check_arena, tear_down_arena,
     MTASK_OK, 0},
    {"arena_attach", IN_THREAD, set_up_arena, attach_arena, check_arena, tear_down_arena, MTASK_OK,
     0},
    {"arena_alloc, arena_free", IN_THREAD, set_up_arena, use_arena, check_arena, tear_down_arena,
     MTASK_OK, 0},
};

/* ---- pools ---- */

static mtask_status create_pool_by(mtask_proc_method method) {
    mtask_procpool_desc desc = {.workers = 1, .method = method};
    mtask_status status = mtask_procpool_create(&now.pool, &desc);
    return status;
}

static mtask_status create_pool(void) {
    return create_pool_by(MTASK_PROC_FORK);
}

static mtask_status create_pool_anew(void) {
    return create_pool_by(MTASK_PROC_SPAWN);
}

static mtask_status create_pool_by_server(void) {
    return create_pool_by(MTASK_PROC_FORKSERVER);
}

/* Has the pool do it; the task's status is that of all. */
static mtask_status call_pool(mtask_bytes_fn fn, const void *in, size_t size, mtask_buf *out) {
    mtask_status status = mtask_procpool_call(now.pool, fn, in, size, out, &ended_as, LONG);
    return status == MTASK_FAILED ? ended_as.status : status;
}

static mtask_status call_echo(void) {
    mtask_buf_free(&now.buf);
    return call_pool(echo, text, sizeof text, &now.buf);
}

static void check_call(mtask_status status) {
    (void)status;
    must_be(call_echo(), MTASK_OK);
    must(now.buf.size == sizeof text && memcmp(now.buf.data, text, sizeof text) == 0);
}

static void check_pool(mtask_status status) {
    pid_t pid;
    check_call(status);
    must(mtask_procpool_pids(now.pool, &pid, 1) == 1 && pid > 0);
}

static void tear_down_pool(void) {
    if (now.imap != NULL)
        mtask_procimap_close(now.imap);
    if (now.future != NULL)
        mtask_future_release(now.future);
    must_be(mtask_procpool_destroy(now.pool), MTASK_OK);
    mtask_buf_free(&now.buf);
}

static void set_up_pool(void) {
    must_be(create_pool(), MTASK_OK);
    must_be(call_echo(), MTASK_OK);
}

static mtask_status call_big_in(void) {
    return call_pool(take_big, big, BIG, NULL);
}

static mtask_status call_big_out(void) {
    mtask_status status;
    mtask_buf_free(&now.buf);
    status = call_pool(enlarge, text, sizeof text, &now.buf);
    must(status != MTASK_OK || now.buf.size == BIG / sizeof text * sizeof text);
    return status;
}

/* Submits, waits, looks at what came. */
static mtask_status submit(void) {
    mtask_outcome outcome;
    size_t size = 0;
    mtask_status status = mtask_procpool_submit(now.pool, echo, text, sizeof text, &now.future);
    if (status != MTASK_OK)
        return status;
    status = mtask_future_get(now.future, &outcome, LONG);
    if (status == MTASK_OK)
        must(memcmp(mtask_future_bytes(now.future, &size), text, sizeof text) == 0 &&
             size == sizeof text);
    mtask_future_release(now.future);
    now.future = NULL;
    return status == MTASK_FAILED ? outcome.status : status;
}

/* Also waits until another process has taken its place. */
static mtask_status crash_worker(void) {
    mtask_status status = call_pool(end_itself, NULL, 0, NULL);
    mtask_status next = call_echo();
    return next == MTASK_OK ? status : next;
}

enum { ITEMS = 20 };

static mtask_status square(const void *in, size_t size, mtask_buf *out) {
    int64_t n;
    memcpy(&n, in, size);
    n *= n;
    return mtask_buf_append(out, &n, sizeof n);
}

static mtask_status map(void) {
    int64_t in[ITEMS], out[ITEMS];
    mtask_procmap_desc desc = {.fn = square, .count = ITEMS, .in = in, .in_size = 8, .out = out};
    mtask_status status;
    desc.out_size = 8;
    for (int64_t i = 0; i < ITEMS; i++)
        in[i] = i;
    status = mtask_procpool_map(now.pool, &desc, &ended_as, LONG);
    for (int64_t i = 0; i < ITEMS && status == MTASK_OK; i++)
        must(out[i] == i * i);
    return status == MTASK_FAILED ? ended_as.status : status;
}

static mtask_status map_async(void) {
    static int64_t in[ITEMS];
    static mtask_buf out[ITEMS];
    mtask_procmap_desc desc = {.fn = square, .count = ITEMS, .in = in, .in_size = 8, .outs = out};
    mtask_status status = mtask_procpool_map_async(now.pool, &desc, &now.future);
    if (status != MTASK_OK)
        return status;
    status = mtask_future_get(now.future, &ended_as, LONG);
    mtask_future_release(now.future);
    now.future = NULL;
    for (int i = 0; i < ITEMS; i++) {
        must(status != MTASK_OK || out[i].size == 8);
        mtask_buf_free(&out[i]);
    }
    return status == MTASK_FAILED ? ended_as.status : status;
}

static mtask_status count_down(mtask_buf *in, void *ctx) {
    mtask_status status = MTASK_DONE;
    (void)ctx;
    if (now.left > 0)
        status = mtask_buf_append(in, &now.left, sizeof now.left);
    now.left -= status == MTASK_OK;
    return status;
}

static mtask_status imap_open(void) {
    mtask_procimap_desc desc = {.fn = square, .input = count_down, .chunk = 2};
    now.left = ITEMS;
    return mtask_procpool_imap(now.pool, &desc, &now.imap);
}

/* Takes all that comes; the first failure, of the items or of the call, is that of all. */
static mtask_status imap_take(void) {
    mtask_procitem item;
    mtask_status status, first = MTASK_OK;
    int count = 0;
    while ((status = mtask_procimap_next(now.imap, &item, LONG)) != MTASK_DONE) {
        count += status == MTASK_OK;
        if (status == MTASK_FAILED)
            status = item.status;
        if (first == MTASK_OK)
            first = status;
        if (first != MTASK_OK && now.turns++ > 1000)
            break;
    }
    must(first != MTASK_OK || count == ITEMS);
    return first;
}

static mtask_status imap(void) {
    mtask_status status = imap_open();
    if (status != MTASK_OK)
        return status;
    status = imap_take();
    mtask_procimap_close(now.imap);
    now.imap = NULL;
    return status;
}

static mtask_status close_pool(void) {
    mtask_status status = mtask_procpool_close(now.pool);
    return status == MTASK_OK ? mtask_procpool_join(now.pool, LONG) : status;
}

static mtask_status terminate_pool(void) {
    mtask_status status = mtask_procpool_terminate(now.pool);
    return status == MTASK_OK ? mtask_procpool_join(now.pool, LONG) : status;
}

/* A pool whose worker ends after each task. */
static void set_up_brief(void) {
    mtask_procpool_desc desc = {.workers = 1, .max_tasks = 1};
    must_be(mtask_procpool_create(&now.pool, &desc), MTASK_OK);
}

/* One whose tasks may not last. */
static void set_up_limited(void) {
    mtask_procpool_desc desc = {.workers = 1, .time_limit = MTASK_MS(2)};
    must_be(mtask_procpool_create(&now.pool, &desc), MTASK_OK);
}

static mtask_status stay_in_pool(const void *in, size_t size, mtask_buf *out) {
    (void)in;
    (void)size;
    (void)out;
    (void)stay(NULL);
    return MTASK_OK;
}

static mtask_status call_too_long(void) {
    return call_pool(stay_in_pool, NULL, 0, NULL);
}

static const operation pool_operations[] = {
    {"procpool_create", ANYWHERE, set_up_nothing, create_pool, check_pool, tear_down_pool, MTASK_OK,
     0},
    {"procpool_create, spawn", IN_THREAD, set_up_nothing, create_pool_anew, check_pool,
     tear_down_pool, MTASK_OK, 0},
    {"procpool_create, server", IN_THREAD, set_up_server, create_pool_by_server, check_pool,
     tear_down_pool, MTASK_OK, POINT(AT_SEND)},
    {"procpool_call", ANYWHERE | POOL, set_up_pool, call_echo, check_pool, tear_down_pool, MTASK_OK,
     0},
    {"procpool_call, big input", ANYWHERE | POOL, set_up_pool, call_big_in, check_pool,
     tear_down_pool, MTASK_OK, 0},
    {"procpool_call, big result", ANYWHERE | POOL, set_up_pool, call_big_out, check_pool,
     tear_down_pool, MTASK_OK, 0},
    {"procpool_call, crash", IN_THREAD | POOL, set_up_pool, crash_worker, check_pool,
     tear_down_pool, MTASK_CRASHED, POINT(AT_MEMORY)},
    {"procpool_call, too long", IN_THREAD | POOL, set_up_limited, call_too_long, check_pool,
     tear_down_pool, MTASK_TIMEOUT, POINT(AT_MEMORY)},
    {"procpool_call, brief workers", IN_THREAD | POOL, set_up_brief, call_echo, check_call,
     tear_down_pool, MTASK_OK, 0},
    {"procpool_submit", ANYWHERE | POOL, set_up_pool, submit, check_pool, tear_down_pool, MTASK_OK,
     0},
    {"procpool_map", ANYWHERE | POOL, set_up_pool, map, check_pool, tear_down_pool, MTASK_OK, 0},
    {"procpool_map_async", ANYWHERE | POOL, set_up_pool, map_async, check_pool, tear_down_pool,
     MTASK_OK, 0},
    {"procpool_imap", ANYWHERE | POOL, set_up_pool, imap, check_pool, tear_down_pool, MTASK_OK,
     POINT(AT_MEMORY)},
    {"procpool_join", ANYWHERE | POOL, set_up_pool, close_pool, NULL, tear_down_pool, MTASK_OK, 0},
    {"procpool_terminate", ANYWHERE | POOL, set_up_pool, terminate_pool, NULL, tear_down_pool,
     MTASK_OK, 0},
};

/* ---- trying ---- */

/* Forks are slow under sanitizers: there only one of so many calls is made to fail, and one of so many
   kinds of calls. */
enum { STEP = TESTING_TSAN ? 7 : TESTING_ASAN ? 4 : 1 };
enum { SPARSE = TESTING_TSAN ? 3 : TESTING_ASAN ? 2 : 1 };

/* Nothing is left behind. */
static void must_balance(const balance *before, const balance *after) {
    if (!is_balanced(before, after))
        _ck_assert_failed(__FILE__, __LINE__, "Check",
                          "left: %ld blocks, %ld maps, %ld children, %d descriptors, %ld tasks; %s",
                          after->blocks - before->blocks, after->maps - before->maps,
                          after->children - before->children,
                          after->descriptors - before->descriptors,
                          (long)after->tasks - (long)before->tasks, story);
}

/* It hangs: says what, and ends. */
static void tell_hang(int number) {
    static const char hangs[] = "\nhangs: ";
    (void)number;
    (void)!write(2, hangs, sizeof hangs - 1);
    (void)!write(2, story, strlen(story));
    (void)!write(2, "\n", 1);
    _exit(3);
}

static void watch_for_hangs(void) {
    const char *factor = getenv("CK_TIMEOUT_MULTIPLIER");
    int times = factor != NULL ? atoi(factor) : 1;
    (void)signal(SIGALRM, tell_hang);
    (void)alarm((unsigned)(times > 1 ? times : 1) * (TEST_TIMEOUT - 5));
}

/* Whether `status` is what to make of this error. */
static bool explains(const plan *it, mtask_status status, int seen) {
    if (it->at == AT_MEMORY)
        return status == MTASK_NOMEM;
    if (status == MTASK_NOMEM)
        return it->error == ENOMEM;
    if (it->error == EPIPE || it->error == ECONNRESET)
        return status == MTASK_BROKEN || status == MTASK_AUTH;
    if (it->at == AT_STAT || it->at == AT_PREAD)
        return status == MTASK_NOT_FOUND || status == MTASK_FAILED || status == MTASK_SYSTEM;
    if (it->at == AT_RECV && status == MTASK_BROKEN)
        return true;
    return status == MTASK_SYSTEM && seen == it->error;
}

static bool is_verbose(void) {
    return getenv("MTASK_TEST_VERBOSE") != NULL;
}

/* Looks at what it answered when `hits` calls had failed. */
static void judge(const plan *it, mtask_status status, int seen, long hits) {
    bool normal = status == it->what->normal;
    if (is_verbose() && hits > 0)
        fprintf(stderr, "%s: %s, %s\n", story, mtask_status_name(status), strerror(seen));
    if (hits == 0 || !it->visible) {
        errno = seen;
        must_be(status, it->what->normal);
        return;
    }
    if (normal && !it->either && ((QUIET ^ it->what->odd) & POINT(it->at)) == 0)
        _ck_assert_failed(__FILE__, __LINE__, "Check", "a failure is not told; %s", story);
    if (!normal && !explains(it, status, seen))
        _ck_assert_failed(__FILE__, __LINE__, "Check", "it ends by %s, errno: %s; %s",
                          mtask_status_name(status), strerror(seen), story);
}

static void set_up(const operation *what) {
    memset(&now, 0, sizeof now);
    now.fd = -1;
    what->set_up();
}

/* Does it once, as planned; how many calls have failed. */
static long try_once(const plan *it) {
    mtask_status status;
    long hits;
    int seen;
    tell_story(it);
    set_up(it->what);
    arm(it->at, it->first, it->number, it->error);
    errno = 12345;
    status = it->what->act();
    seen = errno;
    hits = disarm(it->at);
    judge(it, status, seen, hits);
    if (status != it->what->normal && (it->what->how & LASTING) != 0 &&
        it->what->act() == MTASK_BROKEN) {
        it->what->tear_down();
        return hits;
    }
    if (status != it->what->normal && (it->what->how & (ONCE | LASTING)) == 0)
        must_be(it->what->act(), it->what->normal);
    if (it->what->check != NULL)
        it->what->check(status);
    it->what->tear_down();
    return hits;
}

/* The same; nothing may be left behind. What stays for later use does so only once. */
static long try_balanced(const plan *it) {
    balance before, after;
    long hits;
    for (int round = 0; round < ROUNDS; round++) {
        before = take_balance();
        hits = try_once(it);
        after = take_balance();
        if (is_balanced(&before, &after))
            return hits;
    }
    must_balance(&before, &after);
    return hits;
}

/* Does it with the first, the second, ... call failing; how many there were. */
static long try_each(plan it) {
    long total = 0, hits = 1;
    for (it.first = 1; hits > 0; it.first += STEP) {
        hits = try_balanced(&it);
        total += hits > 0;
        must(it.first < 1000);
    }
    return total;
}

/* Nothing fails: what it makes once, and for good, is made. */
static void warm_up(const operation *what, unsigned where) {
    plan calm = {what, where, AT_MEMORY, 0, 0, 0, false, false};
    for (int i = 0; i < 2; i++)
        (void)try_once(&calm);
}

/* ---- all of them ---- */

typedef struct table {
    const operation *first;
    size_t count;
} table;

#define COUNT(array) (sizeof(array) / sizeof(array)[0])
#define TABLE(array)                                                                               \
 { (array), sizeof(array) / sizeof(array)[0] }

static const table tables[] = {TABLE(process_operations),    TABLE(command_operations),
                               TABLE(connection_operations), TABLE(listener_operations),
                               TABLE(memory_operations),     TABLE(pool_operations)};

/* What is tried with all operations in one place. */
typedef struct trial {
    unsigned where;
    void (*fn)(const operation *what, unsigned where);
    long count; /* of operations that it was tried with */
} trial;

static void run_with(trial *it, const operation *what) {
    const char *only = getenv("MTASK_TEST_ONLY");
    if ((what->how & it->where) == 0 || (only != NULL && strstr(what->name, only) == NULL))
        return;
    watch_for_hangs();
    memset(calls_of, 0, sizeof calls_of); /* which calls it makes: only those need to fail */
    warm_up(what, it->where);
    it->fn(what, it->where);
    it->count++;
}

static void *run_trial(void *arg) {
    trial *it = (trial *)arg;
    for (size_t i = 0; i < COUNT(tables); i++)
        for (size_t k = 0; k < tables[i].count; k++)
            if (SPARSE == 1 || (i + k + it->where) % 2 == 0)
                run_with(it, &tables[i].first[k]);
    return arg;
}

/* Tries it with each operation in a thread, and in a task. */
static void try_all(void (*fn)(const operation *what, unsigned where)) {
    trial as_thread = {IN_THREAD, fn, 0}, as_task = {IN_TASK, fn, 0};
    depth = 0; /* Check has forked this process */
    (void)run_trial(&as_thread);
    (void)in_loop(run_trial, &as_task);
    ck_assert_int_gt(as_thread.count + as_task.count, 0);
    must_be(mtask_forkserver_stop(), MTASK_OK);
    must_be(mtask_proc_join_all(LONG), MTASK_OK);
    must(waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD);
}

/* ---- what must not be noticed ---- */

/* Points where a call may be interrupted, or be told that it would have to wait. */
static const point interrupted[] = {AT_POLL, AT_READ, AT_WRITE,  AT_LOOP,    AT_PREAD, AT_PWRITE,
                                    AT_RECV, AT_SEND, AT_ACCEPT, AT_CONNECT, AT_REAP,  AT_SIZE};

static long unnoticed; /* how often something was tried that made no difference */

static void try_interrupted(const operation *what, unsigned where) {
    for (size_t i = 0; i < COUNT(interrupted); i += SPARSE) {
        plan it = {what, where, interrupted[i], 1, 3, EINTR, false, false};
        if (look(&calls_of[it.at]) > 0)
            unnoticed += try_each(it);
    }
}

START_TEST(what_a_signal_interrupts_goes_on) {
    unnoticed = 0;
    try_all(try_interrupted);
    ck_assert_int_gt(unnoticed, 0);
}
END_TEST

/* ---- what must be told ---- */

static void try_told(const operation *what, unsigned where, point at, int error) {
    plan it = {what, where, at, 1, 1, error, true, false};
    if (at == AT_KILL && (what->how & KILLS) == 0)
        return; /* it would wait for ever for what it cannot end */
    it.either = (what->how & POOL) != 0;
    if (it.either && (at == AT_SEND || at == AT_RECV))
        return; /* as would this for what it cannot transfer */
    if (try_each(it) == 0 || it.either || at == AT_REAP)
        return;
    it.number = LONG_MAX;
    it.first = 1;
    (void)try_balanced(&it);
}

static void try_without_memory(const operation *what, unsigned where) {
    try_told(what, where, AT_MEMORY, ENOMEM);
}

START_TEST(what_finds_no_memory_is_refused) {
    try_all(try_without_memory);
}
END_TEST

/* How calls may fail. */
static const struct {
    point at;
    int error;
} refusals[] = {
    {AT_THREAD, EAGAIN}, {AT_FORK, EAGAIN},   {AT_SPAWN, EAGAIN},   {AT_PREPARE, ENOMEM},
    {AT_REAP, EINVAL},   {AT_KILL, EPERM},    {AT_PIDFD, EMFILE},   {AT_MEMFD, EMFILE},
    {AT_SIZE, ENOSPC},   {AT_MAP, ENOMEM},    {AT_LINK, EACCES},    {AT_LOCK, ENOLCK},
    {AT_UNLINK, EACCES}, {AT_OPEN, EMFILE},   {AT_STAT, EIO},       {AT_READ, EIO},
    {AT_WRITE, EIO},     {AT_PREAD, EIO},     {AT_PWRITE, ENOSPC},  {AT_RECV, ENOMEM},
    {AT_SEND, EPIPE},    {AT_EPOLL, EMFILE},  {AT_CTL, ENOMEM},     {AT_EVENT, EMFILE},
    {AT_PIPE, EMFILE},   {AT_PAIR, EMFILE},   {AT_SOCKET, EMFILE},  {AT_BIND, EACCES},
    {AT_LISTEN, EACCES}, {AT_ACCEPT, EMFILE}, {AT_CONNECT, EACCES}, {AT_OPTION, ENOBUFS},
    {AT_CLOSE, EIO},     {AT_DUP, EMFILE},    {AT_FCNTL, EPERM},    {AT_CHANCE, ENOSYS},
    {AT_TUNE, EPERM},
};

/* Those points that it comes past when nothing fails. In a task it is the same code. */
static void try_refused(const operation *what, unsigned where) {
    if (where == IN_TASK)
        return;
    static size_t begin;
    for (size_t i = begin++ % SPARSE; i < COUNT(refusals); i += SPARSE)
        if (look(&calls_of[refusals[i].at]) > 0)
            try_told(what, where, refusals[i].at, refusals[i].error);
}

START_TEST(what_the_system_refuses_is_told) {
    try_all(try_refused);
}
END_TEST

/* ---- signals all the time ---- */

/* Nobody notices, in whatever process. */
static void try_in_storm(const operation *what, unsigned where) {
    plan it = {what, where, AT_MEMORY, 0, 0, 0, false, false};
    start_storm();
    for (int i = 0; i < 3; i += SPARSE)
        (void)try_once(&it);
    stop_storm();
}

START_TEST(a_storm_of_signals_makes_no_difference) {
    share_elsewhere();
    elsewhere->storm = true;
    try_all(try_in_storm);
}
END_TEST

/* ---- no more descriptors ---- */

enum { FILES = 64 }; /* descriptors that there may be */

/* Takes all that are left but `room`; how many, which are put into `taken`. */
static int take_descriptors(int *taken, int room) {
    int count = 0;
    while ((taken[count] = fcntl(0, F_DUPFD_CLOEXEC, 0)) >= 0)
        count++;
    must(errno == EMFILE && room <= count);
    for (; room > 0; room--)
        must(close(taken[--count]) == 0);
    return count;
}

/* Does it with room for so many more; whether that was enough. */
static bool try_with_room(const plan *it, int room) {
    balance before = take_balance(), after;
    struct rlimit few = usual_files;
    mtask_status status;
    int taken[FILES], count, seen;
    tell_story(it);
    set_up(it->what);
    few.rlim_cur = FILES;
    must(setrlimit(RLIMIT_NOFILE, &few) == 0);
    count = take_descriptors(taken, room);
    errno = 12345;
    status = it->what->act();
    seen = errno;
    while (count > 0)
        must(close(taken[--count]) == 0);
    must(setrlimit(RLIMIT_NOFILE, &usual_files) == 0);
    judge(it, status, seen, 1);
    if (status != it->what->normal && (it->what->how & (ONCE | LASTING)) == 0)
        must_be(it->what->act(), it->what->normal);
    if (it->what->check != NULL && (status == it->what->normal || (it->what->how & LASTING) == 0))
        it->what->check(status);
    it->what->tear_down();
    after = take_balance();
    must_balance(&before, &after);
    return status == it->what->normal;
}

static void try_without_descriptors(const operation *what, unsigned where) {
    plan it = {what, where, AT_PIPE, 0, 0, EMFILE, true, true};
    int enough = 0;
    if (where == IN_TASK || (what->how & CROWDED) != 0 || what->act == crash_worker)
        return; /* another thread would find none, too, or try for seconds to start a process */
    for (int room = 0; enough < 3; room += SPARSE) {
        it.number = room;
        enough = try_with_room(&it, room) ? enough + 1 : 0;
    }
}

START_TEST(what_finds_no_descriptor_is_refused) {
    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &usual_files), 0);
    try_all(try_without_descriptors);
}
END_TEST

/* ---- failures in other processes ---- */

/* What is done by other processes, and how they come to be. */
typedef struct job {
    const char *name;
    mtask_proc_method method;
    int depth; /* of the processes that fail */
    mtask_status (*run)(mtask_proc_method method);
} job;

static mtask_status run_process(mtask_proc_method method) {
    mtask_status status = start_by(method);
    if (status != MTASK_OK)
        return status;
    status = mtask_proc_join(now.proc, &ended_as, LONG);
    if (status == MTASK_OK)
        check_echo(status);
    finish_proc(now.proc);
    now.proc = NULL;
    return status == MTASK_FAILED ? ended_as.status : status;
}

static mtask_status run_pool(mtask_proc_method method) {
    mtask_status status = create_pool_by(method);
    if (status != MTASK_OK)
        return status;
    status = call_echo();
    if (status == MTASK_OK)
        status = call_big_in();
    if (status == MTASK_OK)
        status = call_big_out();
    must_be(mtask_procpool_destroy(now.pool), MTASK_OK);
    return status;
}

static const job jobs[] = {
    {"fork", MTASK_PROC_FORK, 1, run_process},
    {"spawn", MTASK_PROC_SPAWN, 1, run_process},
    {"the server", MTASK_PROC_FORKSERVER, 1, run_process},
    {"a process of the server", MTASK_PROC_FORKSERVER, 2, run_process},
    {"pool", MTASK_PROC_FORK, 1, run_pool},
    {"pool, spawn", MTASK_PROC_SPAWN, 1, run_pool},
    {"pool, a process of the server", MTASK_PROC_FORKSERVER, 2, run_pool},
};

/* Does it with a failure there: it is told, or makes no difference; and the next one works. */
static long try_elsewhere(const job *what, point at, long first, int error) {
    mtask_status status;
    long hits;
    snprintf(story, sizeof story, "%s, depth %d, failure number %ld at %s: %s", what->name,
             what->depth, first, point_names[at], strerror(error));
    memset(&now, 0, sizeof now);
    if (what->method == MTASK_PROC_FORKSERVER && what->depth == 1)
        must_be(mtask_forkserver_stop(), MTASK_OK);
    arm_elsewhere(what->depth, at, first, error);
    status = what->run(what->method);
    hits = disarm_elsewhere();
    if (is_verbose() && hits > 0)
        fprintf(stderr, "%s: %s\n", story, mtask_status_name(status));
    must(status != MTASK_TIMEOUT && (hits > 0 || status == MTASK_OK));
    must_be(what->run(what->method), MTASK_OK);
    mtask_buf_free(&now.buf);
    return hits;
}

static void try_job(const job *what) {
    long hits;
    watch_for_hangs();
    for (int i = 0; i < 2; i++)
        (void)try_elsewhere(what, AT_MEMORY, 0, 0);
    memset(elsewhere->calls_of, 0, sizeof elsewhere->calls_of);
    (void)try_elsewhere(what, AT_MEMORY, 0, 0);
    for (size_t i = 0; i < COUNT(refusals) + 1; i += SPARSE) {
        point at = i < COUNT(refusals) ? refusals[i].at : AT_MEMORY;
        int error = i < COUNT(refusals) ? refusals[i].error : ENOMEM;
        balance before = take_balance(), after;
        if (look(&elsewhere->calls_of[at]) == 0 || at == AT_REAP || at == AT_WRITE)
            continue;
        hits = 1;
        for (long first = 1; hits > 0; first += STEP)
            hits = try_elsewhere(what, at, first, error);
        after = take_balance();
        must_balance(&before, &after);
    }
}

START_TEST(a_failure_in_another_process_is_told) {
    depth = 0;
    share_elsewhere();
    for (size_t i = 0; i < COUNT(jobs); i++)
        try_job(&jobs[i]);
    must_be(mtask_forkserver_stop(), MTASK_OK);
}
END_TEST

/* ---- the first time ---- */

static const operation *find_operation(const char *name) {
    for (size_t i = 0; i < COUNT(tables); i++)
        for (size_t k = 0; k < tables[i].count; k++)
            if (strcmp(tables[i].first[k].name, name) == 0)
                return &tables[i].first[k];
    ck_abort_msg("no operation %s", name);
    return NULL;
}

/* In a child, where nothing was made before that stays for later use. Returns whether a call
   failed. */
static bool try_in_child(const plan *it) {
    int status = 0;
    pid_t pid;
    tell_story(it);
    fflush(NULL);
    pid = fork();
    if (pid == 0) {
        depth = 0;
        watch_for_hangs();
        _exit(try_once(it) > 0 ? 100 : 101);
    }
    must(pid > 0 && waitpid(pid, &status, 0) == pid);
    must(WIFEXITED(status) && (WEXITSTATUS(status) == 100 || WEXITSTATUS(status) == 101));
    return WEXITSTATUS(status) == 100;
}

static const struct {
    point at;
    int error;
} firsts[] = {{AT_MEMORY, ENOMEM}, {AT_THREAD, EAGAIN}, {AT_EVENT, EMFILE},
              {AT_PIPE, ENFILE},   {AT_LINK, ENOSPC},   {AT_OPEN, EMFILE}};

START_TEST(what_is_needed_the_first_time_may_be_refused) {
    static const char *const names[] = {"proc_start",        "proc_start_ex, spawn",
                                        "forkserver_start",  "cmd_run, captured",
                                        "shm_create, named", "procpool_create"};
    depth = 0;
    for (size_t i = 0; i < COUNT(names); i++)
        for (size_t k = 0; k < COUNT(firsts); k++) {
            plan it = {find_operation(names[i]), IN_THREAD, firsts[k].at, 1, 1,
                       firsts[k].error,          true,      true};
            for (; try_in_child(&it); it.first += STEP)
                must(it.first < 200);
        }
}
END_TEST

TESTING_PROC_MAIN("mtask_proc_failure", what_a_signal_interrupts_goes_on,
                  what_finds_no_memory_is_refused, what_the_system_refuses_is_told,
                  a_storm_of_signals_makes_no_difference, what_finds_no_descriptor_is_refused,
                  a_failure_in_another_process_is_told,
                  what_is_needed_the_first_time_may_be_refused)
