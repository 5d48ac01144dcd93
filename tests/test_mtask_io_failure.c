/* test_mtask_io_failure.c - descriptors, sockets, streams and servers when the system interrupts,
   shortens or refuses what is asked of it
// standalone: it holds the implementation itself, with the calls of the system that may fail
   replaced by ones that fail when they are told to.

   Each operation of the table below is done with the first, the second, ... call of a kind failing,
   until there is none left to fail; in a task of a loop and in a thread. */
#define _GNU_SOURCE 1
#include <arpa/inet.h>
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
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

#if defined(MTASK_FORCE_POSIX) || defined(MTASK_LOOP_POLL)
# define USES_EPOLL 0
#else
# define USES_EPOLL 1
#endif

/* ---- where failures can be injected ---- */

#define POINT_LIST(X)                                                                              \
 X(AT_MEMORY)                                                                                      \
 X(AT_THREAD) /* pthread_create */                                                                 \
 X(AT_SHORT)  /* not a failure: the transfer is of one byte */                                     \
 X(AT_READ)   /* read, readv, recv, recvfrom, recvmsg */                                           \
 X(AT_WRITE)  /* write, writev, send, sendto, sendmsg */                                           \
 X(AT_SENDFILE)                                                                                    \
 X(AT_PREAD) /* pread, and preadv2 that may wait */                                                \
 X(AT_PEEK)  /* preadv2 that may not */                                                            \
 X(AT_PWRITE)                                                                                      \
 X(AT_CLEAR) /* a read of an eventfd or a pipe of mtask's own */                                   \
 X(AT_EPOLL) /* epoll_create1 */                                                                   \
 X(AT_CTL)   /* epoll_ctl */                                                                       \
 X(AT_LOOP)  /* epoll_wait, epoll_pwait2 */                                                        \
 X(AT_POLL)  /* poll, ppoll */                                                                     \
 X(AT_EVENT) /* eventfd */                                                                         \
 X(AT_PIPE)                                                                                        \
 X(AT_PAIR) /* socketpair */                                                                       \
 X(AT_SOCKET)                                                                                      \
 X(AT_BIND)                                                                                        \
 X(AT_LISTEN)                                                                                      \
 X(AT_ACCEPT)                                                                                      \
 X(AT_CONNECT)                                                                                     \
 X(AT_GETOPT)                                                                                      \
 X(AT_SETOPT)                                                                                      \
 X(AT_NAME)   /* getsockname, getpeername */                                                       \
 X(AT_LOOKUP) /* getaddrinfo */                                                                    \
 X(AT_SHUTDOWN)                                                                                    \
 X(AT_CLOSE)                                                                                       \
 X(AT_FLAGS) /* fcntl, ioctl */                                                                    \
 X(AT_OPEN)                                                                                        \
 X(AT_STAT)                                                                                        \
 X(AT_SYNC)                                                                                        \
 X(AT_RENAME)                                                                                      \
 X(AT_UNLINK)                                                                                      \
 X(AT_ACTION) /* sigaction */                                                                      \
 X(AT_PIDFD)  /* pidfd_open */                                                                     \
 X(AT_REAP)   /* waitpid, waitid */

#define POINT_NAME(name) name,
typedef enum point { POINT_LIST(POINT_NAME) POINTS } point;
#undef POINT_NAME

#include "testing_inject.h"

#define POINT_TEXT(name) #name,
static const char *const point_names[] = {POINT_LIST(POINT_TEXT)};
#undef POINT_TEXT

static long live_blocks;  /* of memory */
static long live_lookups; /* answers of getaddrinfo */
static long calls_of[POINTS];

/* Whether this call at `at` has to fail; then errno says why. */
static bool fails(point at) {
    bool failed = fails_at(at);
    add(&calls_of[at], 1);
    if (failed)
        errno = error_at(at);
    return failed;
}

#define FAKE static __attribute__((unused))

/* ---- what the replaced calls know of descriptors ---- */

enum { WATCHED = 4096 };

static pthread_mutex_t watching = PTHREAD_MUTEX_INITIALIZER;
static struct watch {
    bool internal; /* made by mtask to wake itself */
    bool is_watched;
    int epoll;
    struct epoll_event event;
    int error; /* of a connect that was told to be under way */
} watches[WATCHED];

static void note_internal(int fd, bool internal) {
    if (fd < 0 || fd >= WATCHED)
        return;
    pthread_mutex_lock(&watching);
    memset(&watches[fd], 0, sizeof watches[fd]);
    watches[fd].internal = internal;
    pthread_mutex_unlock(&watching);
}

static bool is_internal(int fd) {
    bool internal = false;
    if (fd < 0 || fd >= WATCHED)
        return false;
    pthread_mutex_lock(&watching);
    internal = watches[fd].internal;
    pthread_mutex_unlock(&watching);
    return internal;
}

static void note_watch(int epoll, int operation, int fd, const struct epoll_event *event) {
    if (fd < 0 || fd >= WATCHED)
        return;
    pthread_mutex_lock(&watching);
    watches[fd].is_watched = operation != EPOLL_CTL_DEL;
    watches[fd].epoll = epoll;
    if (operation != EPOLL_CTL_DEL)
        watches[fd].event = *event;
    pthread_mutex_unlock(&watching);
}

/* A call was told EAGAIN, or got less than there was: as if what it waits for came right then,
   epoll tells of it once more. */
static void tell_again(int fd) {
    int saved = errno;
    pthread_mutex_lock(&watching);
    if (fd >= 0 && fd < WATCHED && watches[fd].is_watched)
        (void)epoll_ctl(watches[fd].epoll, EPOLL_CTL_MOD, fd, &watches[fd].event);
    pthread_mutex_unlock(&watching);
    errno = saved;
}

/* Files are always ready, and nobody is at their other end. */
static bool can_fail(point at, int fd) {
    int error = error_at(at);
    struct stat status;
    if (look(&injections[at].first) == 0 ||
        (error != EAGAIN && error != ECONNRESET && error != EPIPE))
        return true;
    return fstat(fd, &status) != 0 || !S_ISREG(status.st_mode);
}

static bool fails_on(point at, int fd) {
    bool failed = can_fail(at, fd) && fails(at);
    if (failed && errno == EAGAIN)
        tell_again(fd);
    return failed;
}

/* Whether it may transfer less than was asked for. */
static bool is_stream(int fd) {
    struct stat status;
    int type = 0, saved = errno;
    socklen_t size = sizeof type;
    if (fstat(fd, &status) != 0)
        status.st_mode = 0;
    if (S_ISSOCK(status.st_mode))
        (void)getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size);
    errno = saved;
    return S_ISREG(status.st_mode) || S_ISFIFO(status.st_mode) || type == SOCK_STREAM;
}

/* How much of `size` bytes is transferred. */
static size_t shortened(int fd, size_t size) {
    if (look(&injections[AT_SHORT].first) == 0 || size < 2 || is_internal(fd) || !is_stream(fd) ||
        !fails_at(AT_SHORT))
        return size;
    tell_again(fd); /* the rest comes right then */
    return 1;
}

/* The same of several pieces: 1 if it is to be the one piece *one, else `n`. */
static int shortened_parts(int fd, const struct iovec *parts, int n, struct iovec *one) {
    size_t size = 0;
    for (int i = 0; i < n; i++)
        size += parts[i].iov_len;
    if (shortened(fd, size) == size)
        return n;
    while (parts->iov_len == 0)
        parts++;
    *one = *parts;
    one->iov_len = 1;
    return 1;
}

/* ---- what happens while the tested thread waits ---- */

static pthread_t actor;
static void (*world)(void); /* called before each wait of that thread for descriptors */

static void let_world_turn(void) {
    int saved = errno;
    if (world != NULL && pthread_equal(pthread_self(), actor))
        world();
    errno = saved;
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

FAKE int fake_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*fn)(void *arg),
                             void *arg) {
    return fails(AT_THREAD) ? errno : pthread_create(thread, attr, fn, arg);
}

FAKE ssize_t fake_read(int fd, void *buffer, size_t size) {
    if (is_internal(fd))
        return fails_on(AT_CLEAR, fd) ? -1 : read(fd, buffer, size);
    return fails_on(AT_READ, fd) ? -1 : read(fd, buffer, shortened(fd, size));
}

FAKE ssize_t fake_readv(int fd, const struct iovec *parts, int n) {
    struct iovec one;
    if (fails_on(AT_READ, fd))
        return -1;
    return shortened_parts(fd, parts, n, &one) == n ? readv(fd, parts, n) : readv(fd, &one, 1);
}

FAKE ssize_t fake_recv(int fd, void *buffer, size_t size, int flags) {
    return fails_on(AT_READ, fd) ? -1 : recv(fd, buffer, shortened(fd, size), flags);
}

FAKE ssize_t fake_recvfrom(int fd, void *buffer, size_t size, int flags, struct sockaddr *from,
                           socklen_t *from_size) {
    if (fails_on(AT_READ, fd))
        return -1;
    return recvfrom(fd, buffer, shortened(fd, size), flags, from, from_size);
}

FAKE ssize_t fake_recvmsg(int fd, struct msghdr *message, int flags) {
    struct msghdr copy = *message;
    struct iovec one;
    ssize_t result;
    if (fails_on(AT_READ, fd))
        return -1;
    if (shortened_parts(fd, copy.msg_iov, (int)copy.msg_iovlen, &one) != (int)copy.msg_iovlen) {
        copy.msg_iov = &one;
        copy.msg_iovlen = 1;
    }
    result = recvmsg(fd, &copy, flags);
    message->msg_namelen = copy.msg_namelen;
    message->msg_controllen = copy.msg_controllen;
    message->msg_flags = copy.msg_flags;
    return result;
}

FAKE ssize_t fake_write(int fd, const void *buffer, size_t size) {
    if (is_internal(fd))
        return write(fd, buffer, size);
    return fails_on(AT_WRITE, fd) ? -1 : write(fd, buffer, shortened(fd, size));
}

FAKE ssize_t fake_writev(int fd, const struct iovec *parts, int n) {
    struct iovec one;
    if (fails_on(AT_WRITE, fd))
        return -1;
    return shortened_parts(fd, parts, n, &one) == n ? writev(fd, parts, n) : writev(fd, &one, 1);
}

FAKE ssize_t fake_send(int fd, const void *buffer, size_t size, int flags) {
    return fails_on(AT_WRITE, fd) ? -1 : send(fd, buffer, shortened(fd, size), flags);
}

FAKE ssize_t fake_sendto(int fd, const void *buffer, size_t size, int flags,
                         const struct sockaddr *to, socklen_t to_size) {
    if (fails_on(AT_WRITE, fd))
        return -1;
    return sendto(fd, buffer, shortened(fd, size), flags, to, to_size);
}

FAKE ssize_t fake_sendmsg(int fd, const struct msghdr *message, int flags) {
    struct msghdr copy = *message;
    struct iovec one;
    if (fails_on(AT_WRITE, fd))
        return -1;
    if (shortened_parts(fd, copy.msg_iov, (int)copy.msg_iovlen, &one) != (int)copy.msg_iovlen) {
        copy.msg_iov = &one;
        copy.msg_iovlen = 1;
    }
    return sendmsg(fd, &copy, flags);
}

FAKE ssize_t fake_sendfile(int fd, int file, off_t *offset, size_t size) {
    return fails_on(AT_SENDFILE, fd) ? -1 : sendfile(fd, file, offset, shortened(fd, size));
}

FAKE ssize_t fake_pread(int fd, void *buffer, size_t size, off_t offset) {
    return fails(AT_PREAD) ? -1 : pread(fd, buffer, shortened(fd, size), offset);
}

FAKE ssize_t fake_preadv2(int fd, const struct iovec *parts, int n, off_t offset, int flags) {
    struct iovec one;
    if (fails(flags != 0 ? AT_PEEK : AT_PREAD))
        return -1;
    if (shortened_parts(fd, parts, n, &one) == n)
        return preadv2(fd, parts, n, offset, flags);
    return preadv2(fd, &one, 1, offset, flags);
}

FAKE ssize_t fake_pwrite(int fd, const void *buffer, size_t size, off_t offset) {
    return fails(AT_PWRITE) ? -1 : pwrite(fd, buffer, shortened(fd, size), offset);
}

FAKE int fake_epoll_create1(int flags) {
    return fails(AT_EPOLL) ? -1 : epoll_create1(flags);
}

/* One that is told that the descriptor is there already, or is not there, finds it so. */
FAKE int fake_epoll_ctl(int epoll, int operation, int fd, struct epoll_event *event) {
    struct epoll_event other = {.events = 0, .data = {.u64 = 0}};
    bool failed = fails(AT_CTL);
    int error = errno, result;
    if (failed && error == EEXIST && operation == EPOLL_CTL_ADD)
        (void)epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &other);
    else if (failed && error == ENOENT && operation != EPOLL_CTL_ADD)
        (void)epoll_ctl(epoll, EPOLL_CTL_DEL, fd, &other);
    else if (failed && (error == EEXIST || error == ENOENT))
        failed = false; /* it cannot be */
    result = failed ? -1 : epoll_ctl(epoll, operation, fd, event);
    if (result == 0)
        note_watch(epoll, operation, fd, event);
    if (failed)
        errno = error;
    return result;
}

FAKE int fake_epoll_wait(int epoll, struct epoll_event *events, int most, int timeout) {
    let_world_turn();
    return fails(AT_LOOP) ? -1 : epoll_wait(epoll, events, most, timeout);
}

FAKE int fake_poll(struct pollfd *fds, nfds_t count, int timeout) {
    let_world_turn();
    return fails(AT_POLL) ? -1 : poll(fds, count, timeout);
}

FAKE int fake_ppoll(struct pollfd *fds, nfds_t count, const struct timespec *timeout,
                    const sigset_t *mask) {
    let_world_turn();
    return fails(AT_POLL) ? -1 : ppoll(fds, count, timeout, mask);
}

FAKE int fake_eventfd(unsigned value, int flags) {
    int fd = fails(AT_EVENT) ? -1 : eventfd(value, flags);
    note_internal(fd, true);
    return fd;
}

FAKE int fake_timerfd_create(int clock, int flags) {
    int fd = timerfd_create((clockid_t)clock, flags);
    note_internal(fd, true);
    return fd;
}

FAKE int fake_pipe2(int *ends, int flags) {
    int result = fails(AT_PIPE) ? -1 : pipe2(ends, flags);
    for (int i = 0; i < 2 && result == 0; i++)
        note_internal(ends[i], true);
    return result;
}

FAKE int fake_pipe(int *ends) {
    return fake_pipe2(ends, 0);
}

FAKE int fake_socketpair(int family, int type, int protocol, int *ends) {
    return fails(AT_PAIR) ? -1 : socketpair(family, type, protocol, ends);
}

FAKE int fake_socket(int family, int type, int protocol) {
    return fails(AT_SOCKET) ? -1 : socket(family, type, protocol);
}

FAKE int fake_bind(int fd, const struct sockaddr *address, socklen_t size) {
    return fails(AT_BIND) ? -1 : bind(fd, address, size);
}

FAKE int fake_listen(int fd, int backlog) {
    return fails(AT_LISTEN) ? -1 : listen(fd, backlog);
}

FAKE int fake_accept4(int fd, struct sockaddr *address, socklen_t *size, int flags) {
    return fails_on(AT_ACCEPT, fd) ? -1 : accept4(fd, address, size, flags);
}

FAKE int fake_accept(int fd, struct sockaddr *address, socklen_t *size) {
    return fake_accept4(fd, address, size, 0);
}

/* One that is interrupted, or is told to be under way, goes on; only those of TCP take time. */
FAKE int fake_connect(int fd, const struct sockaddr *address, socklen_t size) {
    int error = error_at(AT_CONNECT);
    bool goes_on = error == EINTR || error == EINPROGRESS;
    if ((goes_on && (address->sa_family == AF_UNIX || !is_stream(fd))) || !fails(AT_CONNECT))
        return connect(fd, address, size);
    if (goes_on && connect(fd, address, size) != 0 && errno != EINPROGRESS && fd < WATCHED)
        __atomic_store_n(&watches[fd].error, errno, __ATOMIC_SEQ_CST);
    errno = error;
    return -1;
}

FAKE int fake_getsockopt(int fd, int level, int name, void *value, socklen_t *size) {
    int error = 0;
    if (fails(AT_GETOPT))
        return -1;
    if (level == SOL_SOCKET && name == SO_ERROR && fd < WATCHED)
        error = __atomic_exchange_n(&watches[fd].error, 0, __ATOMIC_SEQ_CST);
    if (error == 0)
        return getsockopt(fd, level, name, value, size);
    memcpy(value, &error, sizeof error);
    return 0;
}

FAKE int fake_setsockopt(int fd, int level, int name, const void *value, socklen_t size) {
    return fails(AT_SETOPT) ? -1 : setsockopt(fd, level, name, value, size);
}

FAKE int fake_getsockname(int fd, struct sockaddr *address, socklen_t *size) {
    return fails(AT_NAME) ? -1 : getsockname(fd, address, size);
}

FAKE int fake_getpeername(int fd, struct sockaddr *address, socklen_t *size) {
    return fails(AT_NAME) ? -1 : getpeername(fd, address, size);
}

/* What getaddrinfo answers besides EAI_SYSTEM comes as a negative number. */
FAKE int fake_getaddrinfo(const char *node, const char *service, const struct addrinfo *hints,
                          struct addrinfo **infos) {
    struct addrinfo *first = NULL, *second = NULL;
    int result;
    if (fails(AT_LOOKUP))
        return errno < 0 ? errno : EAI_SYSTEM;
    if (node == NULL || strcmp(node, "two.test") != 0) {
        result = getaddrinfo(node, service, hints, infos);
    } else { /* nobody listens at its first address */
        result = getaddrinfo("127.0.0.2", service, hints, &first);
        if (result == 0)
            result = getaddrinfo("127.0.0.1", service, hints, &second);
        if (result == 0) {
            *infos = first;
            while (first->ai_next != NULL)
                first = first->ai_next;
            first->ai_next = second;
        }
    }
    add(&live_lookups, result == 0);
    return result;
}

FAKE void fake_freeaddrinfo(struct addrinfo *infos) {
    add(&live_lookups, -1);
    freeaddrinfo(infos);
}

FAKE int fake_shutdown(int fd, int how) {
    return fails(AT_SHUTDOWN) ? -1 : shutdown(fd, how);
}

/* A descriptor is gone, whatever close says. */
FAKE int fake_close(int fd) {
    int error = fails(AT_CLOSE) ? errno : 0, result;
    note_internal(fd, false);
    result = close(fd);
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
    return fails(AT_FLAGS) ? -1 : fcntl(fd, command, argument);
}

FAKE int fake_ioctl(int fd, unsigned long request, void *argument) {
    return fails(AT_FLAGS) ? -1 : ioctl(fd, request, argument);
}

FAKE int fake_open(const char *path, int flags, ...) {
    unsigned mode;
    va_list args;
    va_start(args, flags);
    mode = va_arg(args, unsigned);
    va_end(args);
    return fails(AT_OPEN) ? -1 : open(path, flags, mode);
}

FAKE int fake_mkostemp(char *path, int flags) {
    return fails(AT_OPEN) ? -1 : mkostemp(path, flags);
}

/* Is not interrupted: what it makes is a plain file. */
FAKE int fake_mkstemp(char *path) {
    return error_at(AT_OPEN) != EINTR && fails(AT_OPEN) ? -1 : mkstemp(path);
}

FAKE int fake_fchmod(int fd, mode_t mode) {
    return fails(AT_STAT) ? -1 : fchmod(fd, mode);
}

FAKE int fake_fstat(int fd, struct stat *status) {
    return fails(AT_STAT) ? -1 : fstat(fd, status);
}

FAKE int fake_stat(const char *path, struct stat *status) {
    return fails(AT_STAT) ? -1 : stat(path, status);
}

FAKE int fake_lstat(const char *path, struct stat *status) {
    return fails(AT_STAT) ? -1 : lstat(path, status);
}

FAKE int fake_fsync(int fd) {
    return fails(AT_SYNC) ? -1 : fsync(fd);
}

FAKE int fake_fdatasync(int fd) {
    return fails(AT_SYNC) ? -1 : fdatasync(fd);
}

FAKE int fake_rename(const char *from, const char *to) {
    return fails(AT_RENAME) ? -1 : rename(from, to);
}

FAKE int fake_unlink(const char *path) {
    return fails(AT_UNLINK) ? -1 : unlink(path);
}

FAKE int fake_sigaction(int number, const struct sigaction *action, struct sigaction *old) {
    return fails(AT_ACTION) ? -1 : sigaction(number, action, old);
}

FAKE pid_t fake_waitpid(pid_t pid, int *status, int options) {
    return fails(AT_REAP) ? -1 : waitpid(pid, status, options);
}

FAKE int fake_waitid(idtype_t type, id_t id, siginfo_t *info, int options) {
    return fails(AT_REAP) ? -1 : waitid(type, id, info, options);
}

FAKE long fake_syscall(long number, ...) {
    long a[6];
    point at = number == 434 ? AT_PIDFD : number == 441 ? AT_LOOP : POINTS;
    va_list args;
    va_start(args, number);
    for (int i = 0; i < 6; i++)
        a[i] = va_arg(args, long);
    va_end(args);
    if (at == AT_LOOP)
        let_world_turn();
    if (at != POINTS && fails(at))
        return -1;
    return syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

/* ---- the implementation, on top of them ---- */

#define MTASK_MALLOC(size)     fake_malloc(size)
#define MTASK_REALLOC(p, size) fake_realloc((p), (size))
#define MTASK_FREE(p)          fake_free(p)
#define pthread_create         fake_pthread_create
#define read(...)              fake_read(__VA_ARGS__)
#define readv(...)             fake_readv(__VA_ARGS__)
#define recv(...)              fake_recv(__VA_ARGS__)
#define recvfrom(...)          fake_recvfrom(__VA_ARGS__)
#define recvmsg(...)           fake_recvmsg(__VA_ARGS__)
#define write(...)             fake_write(__VA_ARGS__)
#define writev(...)            fake_writev(__VA_ARGS__)
#define send(...)              fake_send(__VA_ARGS__)
#define sendto(...)            fake_sendto(__VA_ARGS__)
#define sendmsg(...)           fake_sendmsg(__VA_ARGS__)
#define sendfile(...)          fake_sendfile(__VA_ARGS__)
#define pread(...)             fake_pread(__VA_ARGS__)
#define preadv2(...)           fake_preadv2(__VA_ARGS__)
#define pwrite(...)            fake_pwrite(__VA_ARGS__)
#define epoll_create1(...)     fake_epoll_create1(__VA_ARGS__)
#define epoll_ctl(...)         fake_epoll_ctl(__VA_ARGS__)
#define epoll_wait(...)        fake_epoll_wait(__VA_ARGS__)
#define poll(...)              fake_poll(__VA_ARGS__)
#define ppoll(...)             fake_ppoll(__VA_ARGS__)
#define eventfd(...)           fake_eventfd(__VA_ARGS__)
#define timerfd_create(...)    fake_timerfd_create(__VA_ARGS__)
#define pipe2(...)             fake_pipe2(__VA_ARGS__)
#define pipe(...)              fake_pipe(__VA_ARGS__)
#define socketpair(...)        fake_socketpair(__VA_ARGS__)
#define socket(...)            fake_socket(__VA_ARGS__)
#define bind(...)              fake_bind(__VA_ARGS__)
#define listen(...)            fake_listen(__VA_ARGS__)
#define accept4(...)           fake_accept4(__VA_ARGS__)
#define accept(...)            fake_accept(__VA_ARGS__)
#define connect(...)           fake_connect(__VA_ARGS__)
#define getsockopt(...)        fake_getsockopt(__VA_ARGS__)
#define setsockopt(...)        fake_setsockopt(__VA_ARGS__)
#define getsockname(...)       fake_getsockname(__VA_ARGS__)
#define getpeername(...)       fake_getpeername(__VA_ARGS__)
#define getaddrinfo(...)       fake_getaddrinfo(__VA_ARGS__)
#define freeaddrinfo(...)      fake_freeaddrinfo(__VA_ARGS__)
#define shutdown(...)          fake_shutdown(__VA_ARGS__)
#define close(...)             fake_close(__VA_ARGS__)
#define fcntl(...)             fake_fcntl(__VA_ARGS__)
#define ioctl(...)             fake_ioctl(__VA_ARGS__)
#define open(...)              fake_open(__VA_ARGS__)
#define mkostemp(...)          fake_mkostemp(__VA_ARGS__)
#define mkstemp(...)           fake_mkstemp(__VA_ARGS__)
#define fchmod(...)            fake_fchmod(__VA_ARGS__)
#define fstat(...)             fake_fstat(__VA_ARGS__)
#define stat(...)              fake_stat(__VA_ARGS__)
#define lstat(...)             fake_lstat(__VA_ARGS__)
#define fsync(...)             fake_fsync(__VA_ARGS__)
#define fdatasync(...)         fake_fdatasync(__VA_ARGS__)
#define rename(...)            fake_rename(__VA_ARGS__)
#define unlink(...)            fake_unlink(__VA_ARGS__)
#define sigaction(...)         fake_sigaction(__VA_ARGS__)
#define waitpid(...)           fake_waitpid(__VA_ARGS__)
#define waitid(...)            fake_waitid(__VA_ARGS__)
#define syscall                fake_syscall
#define MTASK_IMPLEMENTATION
#include "../mtask_io.h"
#undef pthread_create
#undef read
#undef readv
#undef recv
#undef recvfrom
#undef recvmsg
#undef write
#undef writev
#undef send
#undef sendto
#undef sendmsg
#undef sendfile
#undef pread
#undef preadv2
#undef pwrite
#undef epoll_create1
#undef epoll_ctl
#undef epoll_wait
#undef poll
#undef ppoll
#undef eventfd
#undef timerfd_create
#undef pipe2
#undef pipe
#undef socketpair
#undef socket
#undef bind
#undef listen
#undef accept4
#undef accept
#undef connect
#undef getsockopt
#undef setsockopt
#undef getsockname
#undef getpeername
#undef getaddrinfo
#undef freeaddrinfo
#undef shutdown
#undef close
#undef fcntl
#undef ioctl
#undef open
#undef mkostemp
#undef mkstemp
#undef fchmod
#undef fstat
#undef stat
#undef lstat
#undef fsync
#undef fdatasync
#undef rename
#undef unlink
#undef sigaction
#undef waitpid
#undef waitid
#undef syscall

#include "testing_io.h"

/* ---- what must balance ---- */

/* Pools start their threads one by one: so often what is left behind may grow. */
enum { ROUNDS = 3 * MTASK_OFFLOAD_THREADS };

typedef struct balance {
    long blocks;
    long lookups;
    int descriptors;
    size_t tasks;
} balance;

static balance take_balance(void) {
    mtask_loop *loop = mtask_loop_current();
    balance now;
    now.blocks = look(&live_blocks);
    now.lookups = look(&live_lookups);
    now.descriptors = count_fds();
    now.tasks = loop != NULL ? mtask_loop_pending(loop) : 0;
    return now;
}

static bool is_balanced(const balance *a, const balance *b) {
    return a->blocks == b->blocks && a->lookups == b->lookups && a->descriptors == b->descriptors &&
           a->tasks == b->tasks;
}

/* ---- an operation, and what may happen to it ---- */

#define LONG MTASK_SEC(20) /* nothing waits so long */

#define POINT(at) (UINT64_C(1) << (at))

/* Points where it does not matter that calls fail: there is another way. */
#define QUIET                                                                                      \
 (POINT(AT_SETOPT) | POINT(AT_GETOPT) | POINT(AT_NAME) | POINT(AT_PIPE) | POINT(AT_CLOSE) |        \
  POINT(AT_STAT))

enum {
    IN_TASK = 1,
    IN_THREAD = 2,
    ANYWHERE = IN_TASK | IN_THREAD,
    ONCE = 4,   /* after a refusal it cannot be done again */
    LASTING = 8 /* MTASK_BROKEN stays */
};

/* One thing that is done with mtask_io.h. */
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
    int ends[2];
    int file;
    int fd;
    int listener;
    char address[160];
    char path[64];
    mtask_stream *stream;
    mtask_server *server;
    mtask_signals *signals;
    pid_t child;
    char got[8192];
    size_t count;
    size_t sent;
    const char *data;
    int turns; /* of the world */
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
             point_names[it->at],
             it->at == AT_LOOKUP ? gai_strerror(it->error) : strerror(it->error));
}

/* Fails the test, with the story, unless the condition holds. */
#define must(condition)                                                                            \
 ((condition) ? (void)0                                                                            \
              : _ck_assert_failed(__FILE__, __LINE__, "Check", "%s; %s", #condition, story))

static void status_must_be(mtask_status actual, mtask_status expected, int line) {
    if (actual != expected)
        _ck_assert_failed(__FILE__, line, "Status", "%s, not %s; errno: %s; %s",
                          mtask_status_name(actual), mtask_status_name(expected), strerror(errno),
                          story);
}

#define must_be(actual, expected) status_must_be((actual), (expected), __LINE__)

/* Nothing is left behind. */
static void must_balance(const balance *before, const balance *after) {
    if (!is_balanced(before, after))
        _ck_assert_failed(__FILE__, __LINE__, "Check",
                          "left: %ld blocks, %ld lookups, %d descriptors, %ld tasks; %s",
                          after->blocks - before->blocks, after->lookups - before->lookups,
                          after->descriptors - before->descriptors,
                          (long)after->tasks - (long)before->tasks, story);
}

/* It hangs: says what, and ends. */
static void tell_hang(int number) {
    static const char text[] = "\nhangs: ";
    (void)number;
    (void)!write(2, text, sizeof text - 1);
    (void)!write(2, story, strlen(story));
    (void)!write(2, "\n", 1);
    _exit(3);
}

static void watch_for_hangs(void) {
    const char *factor = getenv("CK_TIMEOUT_MULTIPLIER");
    int times = factor != NULL ? atoi(factor) : 1;
    (void)signal(SIGALRM, tell_hang);
    (void)alarm((unsigned)(times > 1 ? times : 1) * (TEST_TIMEOUT - 5));
    actor = pthread_self();
}

static mtask_status open_listener(void);

/* Whether `status` is what to make of this error. */
static bool explains(const plan *it, mtask_status status, int seen) {
    if (it->at == AT_MEMORY)
        return status == MTASK_NOMEM;
    if (it->at == AT_ACTION && it->error == EINVAL)
        return status == MTASK_INVALID; /* it cannot be caught */
    if (status == MTASK_NOMEM)
        return it->error == ENOMEM;
    if (it->at != AT_BIND && it->what->act == open_listener && seen == EADDRINUSE)
        return status == MTASK_SYSTEM; /* one cannot see whether anybody listens there */
    if (it->error == ECONNRESET || it->error == EPIPE)
        return status == MTASK_BROKEN && seen == it->error;
    if (it->error == EBADF && status == MTASK_BROKEN)
        return seen == EBADF;
    return status == MTASK_SYSTEM && seen == it->error;
}

static bool is_verbose(void) {
    return getenv("MTASK_TEST_VERBOSE") != NULL;
}

/* Looks at what it answered when `hits` calls had failed. */
static void judge(const plan *it, mtask_status status, int seen, long hits) {
    bool normal = status == it->what->normal;
    bool spare = MTASK_DEBUG && it->at == AT_MEMORY; /* the detector of dead-locks can do without */
    if (is_verbose() && hits > 0)
        fprintf(stderr, "%s: %s, %s\n", story, mtask_status_name(status), strerror(seen));
    if (hits == 0 || !it->visible) {
        errno = seen;
        must_be(status, it->what->normal);
        return;
    }
    if (normal && !it->either && !spare && ((QUIET ^ it->what->odd) & POINT(it->at)) == 0)
        _ck_assert_failed(__FILE__, __LINE__, "Check", "a failure is not told; %s", story);
    if (!normal && !explains(it, status, seen))
        _ck_assert_failed(__FILE__, __LINE__, "Check", "it ends by %s, errno: %s; %s",
                          mtask_status_name(status), strerror(seen), story);
}

static void set_up(const operation *what) {
    memset(&now, 0, sizeof now);
    now.ends[0] = now.ends[1] = now.file = now.fd = now.listener = -1;
    world = NULL;
    what->set_up();
}

static void tear_down(const operation *what) {
    world = NULL;
    what->tear_down();
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
    if (status == MTASK_BROKEN && (it->what->how & LASTING) != 0) {
        errno = 0;
        must_be(it->what->act(), MTASK_BROKEN);
        must(errno == seen);
    } else {
        if (status != it->what->normal && (it->what->how & ONCE) == 0)
            must_be(it->what->act(), it->what->normal);
        if (it->what->check != NULL)
            it->what->check(status);
    }
    tear_down(it->what);
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
    for (it.first = 1; hits > 0; it.first++) {
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

/* ---- descriptors ---- */

enum { BIG = 6000 }; /* bytes; the buffers of the system are made smaller */

static const char text[] = "what is read, and what is written";
static char big[BIG];

/* The world: writes the text, once. */
static void feed_text(void) {
    if (now.turns++ == 0)
        feed(now.ends[1], text);
}

/* The world: reads all that has come. */
static void drain(void) {
    ssize_t size;
    while ((size = recv(now.ends[1], now.got + now.sent, sizeof now.got - now.sent, MSG_DONTWAIT)) >
           0)
        now.sent += (size_t)size;
}

/* A pair of which mtask does not know, and one that it owns. */
static void set_up_foreign(void) {
    int one = 1;
    plain_pair(now.ends);
    must(setsockopt(now.ends[0], SOL_SOCKET, SO_SNDBUF, &one, sizeof one) == 0);
}

static void set_up_own(void) {
    set_up_foreign();
    must_be(mtask_io_adopt(now.ends[0]), MTASK_OK);
}

static void tear_down_foreign(void) {
    end_plain(now.ends);
}

static void tear_down_own(void) {
    must_be(mtask_io_close(now.ends[0]), MTASK_OK);
    must(close(now.ends[1]) == 0);
}

static void set_up_fed_foreign(void) {
    set_up_foreign();
    feed(now.ends[1], text);
}

static void set_up_fed_own(void) {
    set_up_own();
    feed(now.ends[1], text);
}

static void set_up_later_foreign(void) {
    set_up_foreign();
    world = feed_text;
}

static void set_up_later_own(void) {
    set_up_own();
    world = feed_text;
}

static mtask_status wait_to_read(void) {
    return mtask_io_wait(now.ends[0], MTASK_IO_READ, LONG);
}

static mtask_status wait_to_write(void) {
    return mtask_io_wait(now.ends[0], MTASK_IO_READ | MTASK_IO_WRITE, LONG);
}

static mtask_status wait_in_vain(void) {
    return mtask_io_wait(now.ends[0], MTASK_IO_READ, MTASK_US(50));
}

static void check_readable(mtask_status status) {
    (void)status;
    check_fed(now.ends[0], text);
}

static mtask_status select_two(void) {
    mtask_io_case cases[3] = {
        {-1, MTASK_IO_READ, 7}, {now.ends[1], MTASK_IO_READ, 7}, {now.ends[0], MTASK_IO_READ, 7}};
    mtask_status status = mtask_io_select(cases, 3, LONG);
    int seen = errno;
    if (status == MTASK_OK)
        must(cases[2].ready == MTASK_IO_READ && cases[1].ready == 0 && cases[0].ready == 0);
    errno = seen;
    return status;
}

/* Reads until the whole text is there: short reads come one after the other. */
static mtask_status read_text(void) {
    mtask_status status = MTASK_OK;
    while (now.count < sizeof text - 1 && status == MTASK_OK) {
        size_t count = 999;
        status = mtask_io_read(now.ends[0], now.got + now.count, sizeof now.got - now.count, &count,
                               LONG);
        must(status == MTASK_OK ? count > 0 : count == 0);
        now.count += count;
    }
    return status;
}

static mtask_status readv_text(void) {
    mtask_status status = MTASK_OK;
    while (now.count < sizeof text - 1 && status == MTASK_OK) {
        char piece[64];
        size_t count = 999;
        struct iovec parts[3] = {{piece, 5}, {NULL, 0}, {piece + 5, 40}};
        status = mtask_io_readv(now.ends[0], parts, 3, &count, LONG);
        must(status == MTASK_OK ? count > 0 : count == 0);
        memcpy(now.got + now.count, piece, count);
        now.count += count;
    }
    return status;
}

static mtask_status receive_text(void) {
    mtask_status status = MTASK_OK;
    while (now.count < sizeof text - 1 && status == MTASK_OK) {
        size_t count = 999;
        status = mtask_io_recvfrom(now.ends[0], now.got + now.count, sizeof now.got - now.count,
                                   &count, NULL, LONG);
        must(status == MTASK_OK ? count > 0 : count == 0);
        now.count += count;
    }
    return status;
}

static void check_text(mtask_status status) {
    (void)status;
    must(now.count == sizeof text - 1 && memcmp(now.got, text, now.count) == 0);
}

static void set_up_end(void) {
    set_up_own();
    must(shutdown(now.ends[1], SHUT_WR) == 0);
}

static mtask_status read_end(void) {
    size_t count = 999;
    mtask_status status = mtask_io_read(now.ends[0], now.got, sizeof now.got, &count, LONG);
    must(count == 0);
    return status;
}

/* Writes the pattern, from where it stopped on, while the world reads it. */
static mtask_status write_big(void) {
    size_t count = 99999;
    mtask_status status =
        mtask_io_write(now.ends[0], big + now.count, sizeof big - now.count, &count, LONG);
    must(count <= sizeof big - now.count);
    now.count += count;
    return status;
}

static mtask_status writev_big(void) {
    char *from = big + now.count;
    size_t left = sizeof big - now.count, count = 99999;
    struct iovec parts[3] = {{from, left / 3}, {from, 0}, {from + left / 3, left - left / 3}};
    mtask_status status = mtask_io_writev(now.ends[0], parts, 3, &count, LONG);
    must(count <= left);
    now.count += count;
    return status;
}

static void check_big(mtask_status status) {
    (void)status;
    drain();
    must(now.count == sizeof big && now.sent == sizeof big);
    must(memcmp(now.got, big, sizeof big) == 0);
}

static void set_up_drained_foreign(void) {
    set_up_foreign();
    make_pattern(big, 0, sizeof big);
    world = drain;
}

static void set_up_drained_own(void) {
    set_up_own();
    make_pattern(big, 0, sizeof big);
    world = drain;
}

static void set_up_file(void) {
    set_up_drained_own();
    now.file = open_file(sizeof big + 100);
    make_pattern(big, 50, sizeof big);
}

static mtask_status send_file(void) {
    size_t count = 99999;
    mtask_status status = mtask_io_sendfile(now.ends[0], now.file, (int64_t)(50 + now.count),
                                            sizeof big - now.count, &count, LONG);
    must(count <= sizeof big - now.count);
    now.count += count;
    return status;
}

static void check_file_sent(mtask_status status) {
    check_big(status);
    must(lseek(now.file, 0, SEEK_CUR) == 0);
}

static void tear_down_file(void) {
    tear_down_own();
    must(close(now.file) == 0);
}

/* A descriptor that is made goes into now.fd, and is closed; two go to now.ends. */
static void set_up_nothing(void) {
}

static void tear_down_nothing(void) {
}

static mtask_status make_pipe(void) {
    mtask_status status = mtask_io_pipe(now.ends);
    int seen = errno;
    if (status != MTASK_OK)
        must(now.ends[0] == -1 && now.ends[1] == -1);
    errno = seen;
    return status;
}

static mtask_status make_pair(void) {
    mtask_status status = mtask_io_pair(now.ends);
    int seen = errno;
    if (status != MTASK_OK)
        must(now.ends[0] == -1 && now.ends[1] == -1);
    errno = seen;
    return status;
}

/* They are mtask's own, and work. */
static void check_own(int fd) {
    int flags = fcntl(fd, F_GETFL), kept = fcntl(fd, F_GETFD);
    must(flags >= 0 && (flags & O_NONBLOCK) != 0);
    must(kept >= 0 && (kept & FD_CLOEXEC) != 0);
}

static void check_made(mtask_status status) {
    (void)status;
    check_own(now.ends[0]);
    check_own(now.ends[1]);
    must_be(mtask_io_read(now.ends[0], now.got, 1, NULL, MTASK_NOWAIT), MTASK_TIMEOUT);
    must_be(mtask_io_write(now.ends[1], text, sizeof text, NULL, LONG), MTASK_OK);
    must_be(mtask_io_read(now.ends[0], now.got, sizeof now.got, &now.count, LONG), MTASK_OK);
    must(now.count == sizeof text);
}

static void tear_down_made(void) {
    must_be(mtask_io_close(now.ends[0]), MTASK_OK);
    must_be(mtask_io_close(now.ends[1]), MTASK_OK);
}

static mtask_status adopt(void) {
    return mtask_io_adopt(now.ends[0]);
}

static mtask_status close_end(void) {
    mtask_status status = mtask_io_close(now.ends[0]);
    now.ends[0] = -1;
    return status;
}

/* It is gone: the other end sees that, and its number is free. */
static void check_gone(mtask_status status) {
    char byte;
    (void)status;
    must(recv(now.ends[1], &byte, 1, MSG_DONTWAIT) == 0);
}

static void tear_down_gone(void) {
    must(close(now.ends[1]) == 0);
}

/* A task that waits for what is closed. */
static mtask_status waited;

static void *wait_for_close(void *arg) {
    waited = mtask_io_wait(*(int *)arg, MTASK_IO_READ, LONG);
    return arg;
}

static void set_up_awaited(void) {
    set_up_own();
    now.fd = now.ends[0];
    must_be(mtask_go(wait_for_close, &now.fd, NULL), MTASK_OK);
    must_be(mtask_yield(), MTASK_OK);
}

static void check_told(mtask_status status) {
    check_gone(status);
    must_be(mtask_yield(), MTASK_OK);
    must_be(waited, MTASK_BROKEN);
    waited = MTASK_OK;
}

static const operation descriptor_operations[] = {
    {"io_wait of input", ANYWHERE, set_up_fed_foreign, wait_to_read, check_readable,
     tear_down_foreign, MTASK_OK, 0},
    {"io_wait of later input", ANYWHERE, set_up_later_foreign, wait_to_read, check_readable,
     tear_down_foreign, MTASK_OK, 0},
    {"io_wait of later input, own", ANYWHERE, set_up_later_own, wait_to_read, check_readable,
     tear_down_own, MTASK_OK, 0},
    {"io_wait of room", ANYWHERE, set_up_own, wait_to_write, NULL, tear_down_own, MTASK_OK, 0},
    {"io_wait in vain", ANYWHERE, set_up_foreign, wait_in_vain, NULL, tear_down_foreign,
     MTASK_TIMEOUT, 0},
    {"io_select", ANYWHERE, set_up_fed_foreign, select_two, check_readable, tear_down_foreign,
     MTASK_OK, 0},
    {"io_select, later", ANYWHERE, set_up_later_own, select_two, check_readable, tear_down_own,
     MTASK_OK, 0},
    {"io_read", ANYWHERE, set_up_fed_foreign, read_text, check_text, tear_down_foreign, MTASK_OK,
     0},
    {"io_read, own", ANYWHERE, set_up_fed_own, read_text, check_text, tear_down_own, MTASK_OK, 0},
    {"io_read, later", ANYWHERE, set_up_later_foreign, read_text, check_text, tear_down_foreign,
     MTASK_OK, 0},
    {"io_read, later, own", ANYWHERE, set_up_later_own, read_text, check_text, tear_down_own,
     MTASK_OK, 0},
    {"io_read of the end", ANYWHERE, set_up_end, read_end, NULL, tear_down_own, MTASK_CLOSED, 0},
    {"io_readv", ANYWHERE, set_up_later_foreign, readv_text, check_text, tear_down_foreign,
     MTASK_OK, 0},
    {"io_readv, own", ANYWHERE, set_up_later_own, readv_text, check_text, tear_down_own, MTASK_OK,
     0},
    {"io_recvfrom of a stream", ANYWHERE, set_up_later_own, receive_text, check_text, tear_down_own,
     MTASK_OK, 0},
    {"io_write", ANYWHERE, set_up_drained_foreign, write_big, check_big, tear_down_foreign,
     MTASK_OK, 0},
    {"io_write, own", ANYWHERE, set_up_drained_own, write_big, check_big, tear_down_own, MTASK_OK,
     0},
    {"io_writev", ANYWHERE, set_up_drained_foreign, writev_big, check_big, tear_down_foreign,
     MTASK_OK, 0},
    {"io_writev, own", ANYWHERE, set_up_drained_own, writev_big, check_big, tear_down_own, MTASK_OK,
     0},
    {"io_sendfile", ANYWHERE, set_up_file, send_file, check_file_sent, tear_down_file, MTASK_OK, 0},
    {"io_pipe", ANYWHERE, set_up_nothing, make_pipe, check_made, tear_down_made, MTASK_OK,
     POINT(AT_PIPE)},
    {"io_pair", ANYWHERE, set_up_nothing, make_pair, check_made, tear_down_made, MTASK_OK, 0},
    {"io_adopt", ANYWHERE, set_up_foreign, adopt, NULL, tear_down_own, MTASK_OK, 0},
    {"io_close", ANYWHERE | ONCE, set_up_own, close_end, check_gone, tear_down_gone, MTASK_OK,
     POINT(AT_CLOSE)},
    {"io_close, foreign", ANYWHERE | ONCE, set_up_foreign, close_end, check_gone, tear_down_gone,
     MTASK_OK, POINT(AT_CLOSE)},
    {"io_close, awaited", IN_TASK | ONCE, set_up_awaited, close_end, check_told, tear_down_gone,
     MTASK_OK, POINT(AT_CLOSE)},
};

/* ---- addresses and sockets ---- */

/* A socket that listens, of which mtask does not know, and the text of its address. */
static void set_up_listener(void) {
    struct sockaddr_in here;
    socklen_t size = sizeof here;
    memset(&here, 0, sizeof here);
    here.sin_family = AF_INET;
    here.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    now.listener = socket(AF_INET, SOCK_STREAM, 0);
    must(bind(now.listener, (struct sockaddr *)&here, sizeof here) == 0);
    must(listen(now.listener, 64) == 0);
    must(getsockname(now.listener, (struct sockaddr *)&here, &size) == 0);
    snprintf(now.address, sizeof now.address, "127.0.0.1:%u", (unsigned)ntohs(here.sin_port));
}

/* The same, by a name that is to be looked up. */
static void rename_listener(const char *name) {
    char port[16];
    snprintf(port, sizeof port, "%s", strrchr(now.address, ':'));
    snprintf(now.address, sizeof now.address, "%s%s", name, port);
}

static void set_up_named(void) {
    set_up_listener();
    rename_listener("localhost");
}

static void set_up_two_named(void) {
    set_up_listener();
    rename_listener("two.test");
}

static void set_up_unix_listener(void) {
    static unsigned serial;
    struct sockaddr_un here;
    int length;
    memset(&here, 0, sizeof here);
    here.sun_family = AF_UNIX;
    length = snprintf(here.sun_path + 1, sizeof here.sun_path - 1, "mtask-failure-%ld-%u",
                      (long)getpid(), serial++);
    snprintf(now.address, sizeof now.address, "unix:@%s", here.sun_path + 1);
    now.listener = socket(AF_UNIX, SOCK_STREAM, 0);
    must(bind(now.listener, (struct sockaddr *)&here,
              (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)length)) == 0);
    must(listen(now.listener, 64) == 0);
}

static void tear_down_listener(void) {
    if (now.fd >= 0)
        must_be(mtask_io_close(now.fd), MTASK_OK);
    must(close(now.listener) == 0);
}

static mtask_status connect_tcp(void) {
    mtask_status status = mtask_tcp_connect(&now.fd, now.address, LONG);
    must((status == MTASK_OK) == (now.fd >= 0) && now.fd >= -1);
    return status;
}

/* Takes connections from the listener until one brings the text, which `fd` has been given. */
static void check_connection(int fd) {
    bool found = false;
    check_own(fd);
    feed(fd, text);
    for (int i = 0; i < 16 && !found; i++) {
        char got[sizeof text];
        int other = accept(now.listener, NULL, NULL);
        must(other >= 0);
        found = recv(other, got, sizeof got, 0) == (ssize_t)(sizeof text - 1) &&
                memcmp(got, text, sizeof text - 1) == 0;
        must(close(other) == 0);
    }
    must(found);
}

static void check_connected(mtask_status status) {
    (void)status;
    check_connection(now.fd);
}

static void set_up_socket(void) {
    set_up_listener();
    now.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    must(now.fd >= 0);
}

static void set_up_own_socket(void) {
    set_up_socket();
    must_be(mtask_io_adopt(now.fd), MTASK_OK);
}

static mtask_status connect_socket(void) {
    mtask_address address;
    must_be(mtask_address_parse(&address, now.address), MTASK_OK);
    return mtask_io_connect(now.fd, &address, LONG);
}

/* A socket of which a connect was refused may be unfit for another: it is closed. */
static void check_socket(mtask_status status) {
    if (status != MTASK_OK)
        return;
    (void)fcntl(now.fd, F_SETFL, O_NONBLOCK);
    check_connection(now.fd);
}

static mtask_status open_listener(void) {
    mtask_status status = mtask_tcp_listen(&now.fd, now.address, NULL);
    must((status == MTASK_OK) == (now.fd >= 0) && now.fd >= -1);
    return status;
}

static void set_up_listen(void) {
    snprintf(now.address, sizeof now.address, "127.0.0.1:0");
}

static void set_up_listen_everywhere(void) {
    snprintf(now.address, sizeof now.address, "*:0");
}

static void set_up_listen_named(void) {
    snprintf(now.address, sizeof now.address, "localhost:0");
}

/* Somebody has listened at this path, and left. */
static void set_up_listen_path(void) {
    struct sockaddr_un here;
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    snprintf(now.path, sizeof now.path, "/tmp/mtask-test-XXXXXX");
    must(mkdtemp(now.path) != NULL);
    memset(&here, 0, sizeof here);
    here.sun_family = AF_UNIX;
    snprintf(here.sun_path, sizeof here.sun_path, "%s/s", now.path);
    snprintf(now.address, sizeof now.address, "unix:%s", here.sun_path);
    must(bind(fd, (struct sockaddr *)&here, sizeof here) == 0);
    must(close(fd) == 0);
}

static void check_listens(mtask_status status) {
    struct sockaddr_storage here;
    socklen_t size = sizeof here;
    int other;
    (void)status;
    check_own(now.fd);
    must(getsockname(now.fd, (struct sockaddr *)&here, &size) == 0);
    other = socket(here.ss_family, SOCK_STREAM, 0);
    must(connect(other, (struct sockaddr *)&here, size) == 0);
    must(close(other) == 0);
}

static void tear_down_listen(void) {
    must_be(mtask_io_close(now.fd), MTASK_OK);
}

static void tear_down_listen_path(void) {
    char path[80];
    tear_down_listen();
    snprintf(path, sizeof path, "%s/s", now.path);
    (void)unlink(path);
    must(rmdir(now.path) == 0);
}

/* A client connects, past mtask; it is now.ends[0]. */
static void connect_client(void) {
    struct sockaddr_storage here;
    socklen_t size = sizeof here;
    if (now.turns++ > 0)
        return;
    must(getsockname(now.listener, (struct sockaddr *)&here, &size) == 0);
    now.ends[0] = socket(here.ss_family, SOCK_STREAM, 0);
    must(connect(now.ends[0], (struct sockaddr *)&here, size) == 0);
}

static void set_up_accept(void) {
    set_up_listener();
    connect_client();
}

static void set_up_accept_later(void) {
    set_up_listener();
    world = connect_client;
}

static void set_up_accept_own(void) {
    set_up_accept_later();
    must_be(mtask_io_adopt(now.listener), MTASK_OK);
}

static mtask_status accept_one(void) {
    mtask_address peer;
    mtask_status status = mtask_tcp_accept(now.listener, &now.fd, &peer, LONG);
    int seen = errno;
    must((status == MTASK_OK) == (now.fd >= 0) && now.fd >= -1);
    must(status != MTASK_OK || mtask_address_port(&peer) > 0);
    errno = seen;
    return status;
}

static void check_accepted(mtask_status status) {
    (void)status;
    check_own(now.fd);
    feed(now.ends[0], text);
    check_fed(now.fd, text);
}

static void tear_down_accept(void) {
    tear_down_listener();
    must(close(now.ends[0]) == 0);
}

static void tear_down_accept_own(void) {
    must_be(mtask_io_close(now.fd), MTASK_OK);
    must_be(mtask_io_close(now.listener), MTASK_OK);
    must(close(now.ends[0]) == 0);
}

/* ---- datagrams ---- */

static mtask_status open_udp_local(void) {
    mtask_status status = mtask_udp_open(&now.fd, "127.0.0.1:0", NULL, LONG);
    must((status == MTASK_OK) == (now.fd >= 0) && now.fd >= -1);
    return status;
}

static mtask_status open_udp_remote(void) {
    mtask_status status = mtask_udp_open(&now.fd, NULL, "localhost:9", LONG);
    must((status == MTASK_OK) == (now.fd >= 0) && now.fd >= -1);
    return status;
}

static mtask_status open_udp_both(void) {
    mtask_status status = mtask_udp_open(&now.fd, "localhost:0", "127.0.0.1:9", LONG);
    must((status == MTASK_OK) == (now.fd >= 0) && now.fd >= -1);
    return status;
}

static void check_udp(mtask_status status) {
    (void)status;
    check_own(now.fd);
}

/* Two datagram sockets: the first is mtask's. */
static void set_up_datagrams(void) {
    must(socketpair(AF_UNIX, SOCK_DGRAM, 0, now.ends) == 0);
    must_be(mtask_io_adopt(now.ends[0]), MTASK_OK);
}

static void set_up_datagram_later(void) {
    set_up_datagrams();
    world = feed_text;
}

static mtask_status receive_datagram(void) {
    mtask_address from;
    size_t count = 999;
    mtask_status status =
        mtask_io_recvfrom(now.ends[0], now.got, sizeof now.got, &count, &from, LONG);
    must(status == MTASK_OK ? count == sizeof text - 1 : count == 0);
    now.count += count;
    return status;
}

/* There is room for five bytes only. */
static mtask_status receive_part(void) {
    size_t count = 999;
    mtask_status status = mtask_io_recvfrom(now.ends[0], now.got, 5, &count, NULL, LONG);
    must(status != MTASK_OK && count == (status == MTASK_OVERFLOW ? 5 : 0));
    return status;
}

static mtask_status send_datagram(void) {
    return mtask_io_sendto(now.ends[0], text, sizeof text - 1, NULL, LONG);
}

static void check_datagram(mtask_status status) {
    (void)status;
    check_fed(now.ends[1], text);
    must(recv(now.ends[1], now.got, sizeof now.got, MSG_DONTWAIT) < 0);
}

/* ---- names ---- */

static mtask_status resolve(void) {
    mtask_address addresses[4];
    size_t count = 99;
    mtask_status status = mtask_resolve("two.test:99", addresses, 4, &count, LONG);
    int seen = errno;
    must(status == MTASK_OK ? count == 2 && mtask_address_port(&addresses[1]) == 99 : count == 0);
    errno = seen;
    return status;
}

static mtask_status resolve_number(void) {
    mtask_address address;
    size_t count = 99;
    mtask_status status = mtask_resolve("127.0.0.1:99", &address, 1, &count, LONG);
    must(status == MTASK_OK ? count == 1 : count == 0);
    return status;
}

static mtask_status get_local(void) {
    mtask_address address;
    return mtask_io_local(now.ends[0], &address);
}

static mtask_status get_peer(void) {
    mtask_address address;
    return mtask_io_peer(now.ends[0], &address);
}

static const operation socket_operations[] = {
    {"tcp_connect", ANYWHERE, set_up_listener, connect_tcp, check_connected, tear_down_listener,
     MTASK_OK, 0},
    {"tcp_connect, localhost", ANYWHERE, set_up_named, connect_tcp, check_connected,
     tear_down_listener, MTASK_OK, 0},
    {"tcp_connect, two addresses", ANYWHERE, set_up_two_named, connect_tcp, check_connected,
     tear_down_listener, MTASK_OK, POINT(AT_SOCKET) | POINT(AT_CONNECT) | POINT(AT_FLAGS)},
    {"tcp_connect, Unix", ANYWHERE, set_up_unix_listener, connect_tcp, check_connected,
     tear_down_listener, MTASK_OK, 0},
    {"io_connect", ANYWHERE | ONCE, set_up_socket, connect_socket, check_socket, tear_down_listener,
     MTASK_OK, POINT(AT_FLAGS)},
    {"io_connect, own", ANYWHERE | ONCE, set_up_own_socket, connect_socket, check_socket,
     tear_down_listener, MTASK_OK, POINT(AT_FLAGS)},
    {"tcp_listen", ANYWHERE, set_up_listen, open_listener, check_listens, tear_down_listen,
     MTASK_OK, 0},
    {"tcp_listen, all", ANYWHERE, set_up_listen_everywhere, open_listener, check_listens,
     tear_down_listen, MTASK_OK, 0},
    {"tcp_listen, localhost", ANYWHERE, set_up_listen_named, open_listener, check_listens,
     tear_down_listen, MTASK_OK, 0},
    {"tcp_listen, Unix", ANYWHERE, set_up_listen_path, open_listener, check_listens,
     tear_down_listen_path, MTASK_OK, POINT(AT_BIND) | POINT(AT_CONNECT)},
    {"tcp_accept", ANYWHERE, set_up_accept, accept_one, check_accepted, tear_down_accept, MTASK_OK,
     0},
    {"tcp_accept, later", ANYWHERE, set_up_accept_later, accept_one, check_accepted,
     tear_down_accept, MTASK_OK, 0},
    {"tcp_accept, later, own", ANYWHERE, set_up_accept_own, accept_one, check_accepted,
     tear_down_accept_own, MTASK_OK, 0},
    {"udp_open, local", ANYWHERE, set_up_nothing, open_udp_local, check_udp, tear_down_listen,
     MTASK_OK, 0},
    {"udp_open, remote", ANYWHERE, set_up_nothing, open_udp_remote, check_udp, tear_down_listen,
     MTASK_OK, 0},
    {"udp_open, both", ANYWHERE, set_up_nothing, open_udp_both, check_udp, tear_down_listen,
     MTASK_OK, 0},
    {"io_recvfrom", ANYWHERE, set_up_datagram_later, receive_datagram, check_text, tear_down_own,
     MTASK_OK, 0},
    {"io_recvfrom, too long", ANYWHERE, set_up_datagram_later, receive_part, NULL, tear_down_own,
     MTASK_OVERFLOW, 0},
    {"io_sendto", ANYWHERE, set_up_datagrams, send_datagram, check_datagram, tear_down_own,
     MTASK_OK, 0},
    {"resolve", ANYWHERE, set_up_nothing, resolve, NULL, tear_down_nothing, MTASK_OK, 0},
    {"resolve of a number", ANYWHERE, set_up_nothing, resolve_number, NULL, tear_down_nothing,
     MTASK_OK, 0},
    {"io_local", ANYWHERE, set_up_foreign, get_local, NULL, tear_down_foreign, MTASK_OK,
     POINT(AT_NAME)},
    {"io_peer", ANYWHERE, set_up_foreign, get_peer, NULL, tear_down_foreign, MTASK_OK,
     POINT(AT_NAME)},
};

/* ---- streams ---- */

/* The world: sends two lines, a piece of three bytes at a time. */
static const char lines[] = "one line\r\nand another\n";

static void feed_lines(void) {
    size_t size = sizeof lines - 1 - now.sent;
    if (size > 3)
        size = 3;
    if (size > 0)
        must(write(now.ends[1], lines + now.sent, size) == (ssize_t)size);
    now.sent += size;
}

static void set_up_stream(void) {
    mtask_stream_desc desc = {.buffer = 1024, .limit = 64};
    set_up_foreign();
    make_pattern(big, 0, sizeof big);
    must_be(mtask_stream_open(&now.stream, now.ends[0], &desc), MTASK_OK);
}

static void set_up_stream_fed(void) {
    set_up_stream();
    world = feed_lines;
}

static void set_up_stream_drained(void) {
    set_up_stream();
    world = drain;
}

static void tear_down_stream(void) {
    mtask_stream_destroy(now.stream);
    must(close(now.ends[1]) == 0);
}

static mtask_status open_stream(void) {
    mtask_status status = mtask_stream_open(&now.stream, now.ends[0], NULL);
    int seen = errno;
    must((status == MTASK_OK) == (now.stream != NULL));
    must(fcntl(now.ends[0], F_GETFD) >= 0); /* it is still the caller's */
    errno = seen;
    return status;
}

static mtask_status connect_stream(void) {
    mtask_status status = mtask_stream_connect(&now.stream, now.address, NULL, LONG);
    must((status == MTASK_OK) == (now.stream != NULL));
    return status;
}

static void check_stream_connected(mtask_status status) {
    (void)status;
    check_connection(mtask_stream_fd(now.stream));
}

static void tear_down_stream_connected(void) {
    mtask_stream_destroy(now.stream);
    must(close(now.listener) == 0);
}

static mtask_status fill_stream(void) {
    const char *data = NULL;
    size_t size = 999;
    mtask_status status = mtask_stream_fill(now.stream, 12, &data, &size, LONG);
    int seen = errno;
    must(size <= sizeof lines - 1 && (size == 0 || memcmp(data, lines, size) == 0));
    must(status != MTASK_OK || size >= 12);
    errno = seen;
    return status;
}

static void check_rest(mtask_status status) {
    const char *data = NULL;
    size_t size = 0;
    (void)status;
    must_be(mtask_stream_read_until(now.stream, "other\n", 6, &data, &size, LONG), MTASK_OK);
    must(size == sizeof lines - 1 && memcmp(data, lines, size) == 0);
}

static mtask_status read_stream(void) {
    mtask_status status = MTASK_OK;
    while (now.count < sizeof lines - 1 && status == MTASK_OK) {
        size_t count = 999;
        status = mtask_stream_read(now.stream, now.got + now.count, 7, &count, LONG);
        must(status == MTASK_OK ? count > 0 && count <= 7 : count == 0);
        now.count += count;
    }
    return status;
}

static mtask_status read_exactly(void) {
    size_t count = 999;
    mtask_status status = mtask_stream_read_exactly(now.stream, now.got + now.count,
                                                    sizeof lines - 1 - now.count, &count, LONG);
    must(count <= sizeof lines - 1 - now.count);
    now.count += count;
    return status;
}

static void check_lines(mtask_status status) {
    (void)status;
    must(now.count == sizeof lines - 1 && memcmp(now.got, lines, now.count) == 0);
}

static mtask_status read_until(void) {
    const char *data = NULL;
    size_t size = 999;
    mtask_status status = mtask_stream_read_until(now.stream, "and ", 4, &data, &size, LONG);
    int seen = errno;
    must(size <= 14 && (size == 0 || memcmp(data, lines, size) == 0));
    must(status != MTASK_OK || size == 14);
    errno = seen;
    return status;
}

static void check_another(mtask_status status) {
    char *line = NULL;
    size_t size = 0;
    (void)status;
    must_be(mtask_stream_read_line(now.stream, &line, &size, LONG), MTASK_OK);
    must(size == 7 && strcmp(line, "another") == 0);
}

/* Two lines; the second call may be the one that is refused. */
static mtask_status read_lines(void) {
    static const char *const expected[] = {"one line", "and another"};
    mtask_status status = MTASK_OK;
    while (now.count < 2 && status == MTASK_OK) {
        char *line = now.got;
        size_t size = 999;
        status = mtask_stream_read_line(now.stream, &line, &size, LONG);
        if (status == MTASK_OK)
            must(strcmp(line, expected[now.count]) == 0 && size == strlen(line));
        else
            must(line == NULL);
        now.count += status == MTASK_OK;
    }
    return status;
}

static mtask_status idle_stream(void) {
    return mtask_stream_idle(now.stream, LONG);
}

/* Sends what was written, if it was; notes that. */
static mtask_status drain_after(mtask_status status) {
    now.count = status == MTASK_OK;
    return status == MTASK_OK ? mtask_stream_drain(now.stream, LONG) : status;
}

/* Writes more than its buffer and the system's can hold, and sends all. */
static mtask_status write_stream(void) {
    return drain_after(mtask_stream_write(now.stream, big, sizeof big, LONG));
}

static mtask_status writev_stream(void) {
    struct iovec parts[4] = {
        {big, 10}, {big, 0}, {big + 10, 3000}, {big + 3010, sizeof big - 3010}};
    return drain_after(mtask_stream_writev(now.stream, parts, 4, LONG));
}

static mtask_status print_stream(void) {
    mtask_status status = MTASK_OK;
    memset(big, 'x', sizeof big);
    for (size_t i = 0; i < sizeof big / 1000 && status == MTASK_OK; i++)
        status = mtask_stream_printf(now.stream, LONG, "%.*s%.*s", 600, big, 400, big);
    return drain_after(status);
}

static mtask_status send_file_stream(void) {
    mtask_status status = mtask_stream_write(now.stream, big, 10, LONG);
    if (status == MTASK_OK)
        status = mtask_stream_sendfile(now.stream, now.file, 60, sizeof big - 10, LONG);
    return drain_after(status);
}

/* The stream still writes, after what came before: all of it, if it was written, or none of a call
   that was refused. */
static void check_goes_on(void) {
    size_t before;
    must_be(mtask_stream_drain(now.stream, LONG), MTASK_OK);
    drain();
    before = now.sent - 5;
    must(memcmp(now.got + before, text, 5) == 0 && memcmp(now.got, big, before) == 0);
    must(now.count != 0 ? before == sizeof big : before == 0 || before == 10 || before % 1000 == 0);
}

/* All came; or a beginning of it did, and the error stays, or the stream goes on. */
static void check_sent(mtask_status status) {
    drain();
    must(now.sent <= sizeof big && memcmp(now.got, big, now.sent) == 0);
    if (status == MTASK_OK) {
        must(now.sent == sizeof big && mtask_stream_pending(now.stream) == 0);
        return;
    }
    if (mtask_stream_write(now.stream, text, 5, LONG) == MTASK_OK) {
        must(status != MTASK_BROKEN);
        check_goes_on();
        return;
    }
    must_be(mtask_stream_write(now.stream, text, 5, LONG),
            status == MTASK_SYSTEM ? MTASK_SYSTEM : MTASK_BROKEN);
    must(errno > 0 && errno != EAGAIN);
    drain();
    must(memcmp(now.got, big, now.sent) == 0);
}

static void set_up_stream_file(void) {
    set_up_stream_drained();
    now.file = open_file(sizeof big + 100);
    make_pattern(big, 50, sizeof big);
}

static void tear_down_stream_file(void) {
    tear_down_stream();
    must(close(now.file) == 0);
}

/* Something is in the buffer. */
static void set_up_stream_written(void) {
    set_up_stream_drained();
    must_be(mtask_stream_write(now.stream, text, sizeof text - 1, LONG), MTASK_OK);
}

static mtask_status drain_stream(void) {
    return mtask_stream_drain(now.stream, LONG);
}

static mtask_status shut_stream(void) {
    return mtask_stream_shutdown(now.stream, LONG);
}

static mtask_status close_stream(void) {
    return mtask_stream_close(now.stream, LONG);
}

static mtask_status abort_stream(void) {
    mtask_stream_abort(now.stream);
    return MTASK_OK;
}

static mtask_status destroy_stream(void) {
    mtask_stream_destroy(now.stream);
    now.stream = NULL;
    return MTASK_OK;
}

static void check_text_sent(mtask_status status) {
    drain();
    must(status != MTASK_OK ||
         (now.sent == sizeof text - 1 && memcmp(now.got, text, now.sent) == 0));
}

static void check_end_sent(mtask_status status) {
    check_text_sent(status);
    if (status == MTASK_OK)
        must(recv(now.ends[1], now.got, 1, MSG_DONTWAIT) == 0);
}

static void check_stream_gone(mtask_status status) {
    check_end_sent(status);
    must(mtask_stream_fd(now.stream) == -1);
    must(recv(now.ends[1], now.got, 1, MSG_DONTWAIT) == 0);
    must_be(mtask_stream_close(now.stream, LONG), MTASK_OK);
}

static void check_aborted(mtask_status status) {
    (void)status;
    must(now.stream == NULL || mtask_stream_fd(now.stream) == -1);
    must(recv(now.ends[1], now.got, 1, MSG_DONTWAIT) <= 0);
}

static const operation stream_operations[] = {
    {"stream_open", ANYWHERE, set_up_foreign, open_stream, NULL, tear_down_stream, MTASK_OK, 0},
    {"stream_connect", ANYWHERE, set_up_named, connect_stream, check_stream_connected,
     tear_down_stream_connected, MTASK_OK, 0},
    {"stream_fill", ANYWHERE | LASTING, set_up_stream_fed, fill_stream, check_rest,
     tear_down_stream, MTASK_OK, 0},
    {"stream_read", ANYWHERE | LASTING, set_up_stream_fed, read_stream, check_lines,
     tear_down_stream, MTASK_OK, 0},
    {"stream_read_exactly", ANYWHERE | LASTING, set_up_stream_fed, read_exactly, check_lines,
     tear_down_stream, MTASK_OK, 0},
    {"stream_read_until", ANYWHERE | LASTING, set_up_stream_fed, read_until, check_another,
     tear_down_stream, MTASK_OK, 0},
    {"stream_read_line", ANYWHERE | LASTING, set_up_stream_fed, read_lines, NULL, tear_down_stream,
     MTASK_OK, 0},
    {"stream_idle", ANYWHERE | LASTING, set_up_stream_fed, idle_stream, check_rest,
     tear_down_stream, MTASK_OK, 0},
    {"stream_write", ANYWHERE | ONCE, set_up_stream_drained, write_stream, check_sent,
     tear_down_stream, MTASK_OK, 0},
    {"stream_writev", ANYWHERE | ONCE, set_up_stream_drained, writev_stream, check_sent,
     tear_down_stream, MTASK_OK, 0},
    {"stream_printf", ANYWHERE | ONCE, set_up_stream_drained, print_stream, check_sent,
     tear_down_stream, MTASK_OK, 0},
    {"stream_sendfile", ANYWHERE | ONCE, set_up_stream_file, send_file_stream, check_sent,
     tear_down_stream_file, MTASK_OK, 0},
    {"stream_drain", ANYWHERE | ONCE, set_up_stream_written, drain_stream, check_text_sent,
     tear_down_stream, MTASK_OK, 0},
    {"stream_shutdown", ANYWHERE | ONCE, set_up_stream_written, shut_stream, check_end_sent,
     tear_down_stream, MTASK_OK, 0},
    {"stream_close", ANYWHERE | ONCE, set_up_stream_written, close_stream, check_stream_gone,
     tear_down_stream, MTASK_OK, 0},
    {"stream_abort", ANYWHERE | ONCE, set_up_stream_written, abort_stream, check_aborted,
     tear_down_stream, MTASK_OK, ~QUIET},
    {"stream_destroy", ANYWHERE | ONCE, set_up_stream_written, destroy_stream, check_aborted,
     tear_down_stream, MTASK_OK, ~QUIET},
};

/* ---- what threads do for tasks: functions, files, signals, children ---- */

static void *double_it(void *arg) {
    *(long *)arg *= 2;
    return arg;
}

static mtask_status offload(void) {
    long number = 21;
    mtask_outcome outcome = {.status = MTASK_INVALID};
    mtask_status status = mtask_offload(double_it, &number, &outcome);
    must(number == (status == MTASK_OK ? 42 : 21));
    must(status != MTASK_OK || outcome.value == &number);
    return status;
}

static mtask_status offload_for(void) {
    long number = 21;
    mtask_status status = mtask_offload_for(double_it, &number, sizeof number, NULL, NULL, LONG);
    must(number == (status == MTASK_OK ? 42 : 21));
    return status;
}

/* A file with the pattern in a directory of its own. */
static void path_in(char *path, size_t size) {
    snprintf(path, size, "%s/file", now.path);
}

static void set_up_directory(void) {
    char path[80];
    make_pattern(big, 0, sizeof big);
    snprintf(now.path, sizeof now.path, "%s/mtask-test-XXXXXX",
             access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp"); /* where nothing is slow */
    must(mkdtemp(now.path) != NULL);
    path_in(path, sizeof path);
    now.file = open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
    must(now.file >= 0 && write(now.file, big, sizeof big) == sizeof big);
}

/* Nothing but the file was left there. */
static void tear_down_directory(void) {
    char path[80];
    path_in(path, sizeof path);
    if (now.fd >= 0)
        must(close(now.fd) == 0);
    must(close(now.file) == 0);
    must(unlink(path) == 0);
    must(rmdir(now.path) == 0);
}

static mtask_status open_path(void) {
    char path[80];
    mtask_status status;
    path_in(path, sizeof path);
    status = mtask_file_open(&now.fd, path, O_RDONLY, 0);
    must((status == MTASK_OK) == (now.fd >= 0) && now.fd >= -1);
    return status;
}

static mtask_status read_file(void) {
    size_t count = 99999;
    mtask_status status = mtask_file_read(now.file, now.got, sizeof now.got, 100, &count);
    must(status != MTASK_OK || count == sizeof big - 100);
    return status;
}

static void check_read(mtask_status status) {
    (void)status;
    must(memcmp(now.got, big + 100, sizeof big - 100) == 0);
}

static mtask_status write_file(void) {
    return mtask_file_write(now.file, big, 3000, 1000);
}

static void check_written(mtask_status status) {
    (void)status;
    must(pread(now.file, now.got, sizeof now.got, 0) == sizeof big);
    must(memcmp(now.got + 1000, big, 3000) == 0);
    must(memcmp(now.got, big, 1000) == 0 && memcmp(now.got + 4000, big + 4000, 2000) == 0);
}

static mtask_status load_file(void) {
    char path[80], *data = now.got;
    size_t size = 0;
    mtask_status status;
    int seen;
    path_in(path, sizeof path);
    status = mtask_file_load(path, sizeof big, &data, &size);
    seen = errno;
    if (status == MTASK_OK)
        must(size == sizeof big && memcmp(data, big, size) == 0 && data[size] == '\0');
    else
        must(data == NULL);
    mtask_file_free(data);
    errno = seen;
    return status;
}

/* It holds the old pattern, or all of the new one. */
static mtask_status save_file(void) {
    char path[80];
    int fd, seen;
    ssize_t size;
    mtask_status status;
    path_in(path, sizeof path);
    status = mtask_file_save(path, big + 100, 3000);
    seen = errno;
    fd = open(path, O_RDONLY);
    must(fd >= 0);
    size = read(fd, now.got, sizeof now.got);
    must(close(fd) == 0);
    if (status == MTASK_OK)
        must(size == 3000 && memcmp(now.got, big + 100, 3000) == 0);
    else
        must((size == 3000 && memcmp(now.got, big + 100, 3000) == 0) ||
             (size == sizeof big && memcmp(now.got, big, sizeof big) == 0));
    errno = seen;
    return status;
}

static const int caught[2] = {SIGUSR1, SIGUSR2};

static mtask_status catch_signals(void) {
    mtask_status status = mtask_signals_create(&now.signals, caught, 2);
    must((status == MTASK_OK) == (now.signals != NULL));
    return status;
}

/* Both can be caught, and do afterwards what they did. */
static void check_caught(mtask_status status) {
    int number = 0;
    (void)status;
    for (int i = 0; i < 2; i++) {
        must(kill(getpid(), caught[i]) == 0);
        must_be(mtask_signals_wait(now.signals, &number, LONG), MTASK_OK);
        must(number == caught[i]);
    }
}

static void tear_down_signals(void) {
    mtask_signals_destroy(now.signals);
    for (int i = 0; i < 2; i++) {
        struct sigaction action;
        must(sigaction(caught[i], NULL, &action) == 0 && action.sa_handler == SIG_IGN);
    }
}

static void set_up_uncaught(void) {
    (void)signal(SIGUSR1, SIG_IGN);
    (void)signal(SIGUSR2, SIG_IGN);
}

static void raise_once(void) {
    if (now.turns++ == 0)
        must(kill(getpid(), SIGUSR2) == 0);
}

static void set_up_signals(void) {
    set_up_uncaught();
    must_be(catch_signals(), MTASK_OK);
    world = raise_once;
}

static mtask_status await_signal(void) {
    int number = 0;
    mtask_status status = mtask_signals_wait(now.signals, &number, LONG);
    must(status != MTASK_OK || number == SIGUSR2);
    return status;
}

static void set_up_child(void) {
    fflush(NULL);
    now.child = fork();
    if (now.child == 0) {
        struct timespec pause = {0, 200000};
        (void)nanosleep(&pause, NULL);
        _exit(7);
    }
    must(now.child > 0);
}

static mtask_status await_child(void) {
    int status = -1;
    mtask_status answer = mtask_child_wait(now.child, &status, LONG);
    must(answer != MTASK_OK || (WIFEXITED(status) && WEXITSTATUS(status) == 7));
    return answer;
}

static void tear_down_child(void) {
    must(waitpid(now.child, NULL, 0) == -1);
}

static const operation other_operations[] = {
    {"offload", ANYWHERE, set_up_nothing, offload, NULL, tear_down_nothing, MTASK_OK, 0},
    {"offload_for", ANYWHERE, set_up_nothing, offload_for, NULL, tear_down_nothing, MTASK_OK, 0},
    {"file_open", ANYWHERE, set_up_directory, open_path, NULL, tear_down_directory, MTASK_OK, 0},
    {"file_read", ANYWHERE, set_up_directory, read_file, check_read, tear_down_directory, MTASK_OK,
     0},
    {"file_write", ANYWHERE, set_up_directory, write_file, check_written, tear_down_directory,
     MTASK_OK, 0},
    {"file_load", ANYWHERE, set_up_directory, load_file, NULL, tear_down_directory, MTASK_OK, 0},
    {"file_save", ANYWHERE, set_up_directory, save_file, NULL, tear_down_directory, MTASK_OK, 0},
    {"signals_create", ANYWHERE, set_up_uncaught, catch_signals, check_caught, tear_down_signals,
     MTASK_OK, 0},
    {"signals_wait", ANYWHERE, set_up_signals, await_signal, NULL, tear_down_signals, MTASK_OK, 0},
    {"child_wait", ANYWHERE, set_up_child, await_child, NULL, tear_down_child, MTASK_OK, 0},
};

/* ---- all of them ---- */

typedef struct table {
    const operation *first;
    size_t count;
} table;

#define COUNT(array) (sizeof(array) / sizeof(array)[0])
#define TABLE(array)                                                                               \
 { (array), sizeof(array) / sizeof(array)[0] }

static const table tables[] = {TABLE(descriptor_operations), TABLE(socket_operations),
                               TABLE(stream_operations), TABLE(other_operations)};

static const operation *find_operation(const char *name) {
    for (size_t i = 0; i < COUNT(tables); i++)
        for (size_t k = 0; k < tables[i].count; k++)
            if (strcmp(tables[i].first[k].name, name) == 0)
                return &tables[i].first[k];
    ck_abort_msg("no operation %s", name);
    return NULL;
}

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
    warm_up(what, it->where);
    it->fn(what, it->where);
    it->count++;
}

static void *run_trial(void *arg) {
    for (size_t i = 0; i < COUNT(tables); i++)
        for (size_t k = 0; k < tables[i].count; k++)
            run_with((trial *)arg, &tables[i].first[k]);
    return arg;
}

/* Tries it with each operation in a thread, and in a task. */
static void try_all(void (*fn)(const operation *what, unsigned where)) {
    trial as_thread = {IN_THREAD, fn, 0}, as_task = {IN_TASK, fn, 0};
    (void)run_trial(&as_thread);
    (void)in_loop(run_trial, &as_task);
    ck_assert_int_gt(as_thread.count + as_task.count, 0);
}

/* ---- what must not be noticed ---- */

/* Fails `number` calls in a row, from the first, the second, ... on, and expects no difference. */
static long try_unnoticed(const operation *what, unsigned where, point at, int error) {
    plan it = {what, where, at, 1, 3, error, false, false};
    return try_each(it);
}

/* Points where a call may be interrupted, or be told that it would have to wait. */
static const point interrupted[] = {AT_READ,   AT_WRITE, AT_SENDFILE, AT_PREAD,  AT_PEEK,
                                    AT_PWRITE, AT_LOOP,  AT_POLL,     AT_ACCEPT, AT_OPEN,
                                    AT_SYNC,   AT_REAP,  AT_CLEAR,    AT_CONNECT};
static const point blocked[] = {AT_READ, AT_WRITE, AT_SENDFILE, AT_ACCEPT, AT_PEEK, AT_CLEAR};

static long unnoticed; /* how often something was tried that made no difference */

static void try_interrupted(const operation *what, unsigned where) {
    for (size_t i = 0; i < COUNT(interrupted); i++)
        unnoticed += try_unnoticed(what, where, interrupted[i], EINTR);
}

START_TEST(what_a_signal_interrupts_goes_on) {
    unnoticed = 0;
    try_all(try_interrupted);
    ck_assert_int_gt(unnoticed, 0);
}
END_TEST

static void try_blocked(const operation *what, unsigned where) {
    for (size_t i = 0; i < COUNT(blocked); i++)
        unnoticed += try_unnoticed(what, where, blocked[i], EAGAIN);
}

START_TEST(what_is_not_ready_after_all_is_waited_for) {
    unnoticed = 0;
    try_all(try_blocked);
    ck_assert_int_gt(unnoticed, 0);
}
END_TEST

/* One transfer, and all transfers from one on, are of one byte. */
static void try_short(const operation *what, unsigned where) {
    plan it = {what, where, AT_SHORT, 1, 1, 0, false, false};
    unnoticed += try_each(it);
    it.number = LONG_MAX;
    it.first = 1;
    if (where == IN_TASK)
        (void)try_balanced(&it);
}

START_TEST(transfers_of_one_byte_make_no_difference) {
    unnoticed = 0;
    try_all(try_short);
    ck_assert_int_gt(unnoticed, 0);
}
END_TEST

/* ---- what must be told ---- */

static void try_told(const operation *what, unsigned where, point at, int error) {
    plan it = {what, where, at, 1, 1, error, true, false};
    if (at == AT_FLAGS && what->act == accept_one)
        return; /* without accept4, what cannot be made non-blocking is closed */
    if (try_each(it) == 0)
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
    int errors[6];
} refusals[] = {
    {AT_READ, {ECONNRESET, EIO, EBADF}},
    {AT_WRITE, {EPIPE, ECONNRESET, EIO}},
    {AT_SENDFILE, {EPIPE, EIO}},
    {AT_PREAD, {EIO}},
    {AT_PWRITE, {ENOSPC}},
    {AT_CTL, {ENOMEM, ENOSPC}},
    {AT_EVENT, {EMFILE}},
    {AT_PIPE, {EMFILE, ENFILE}},
    {AT_PAIR, {EMFILE}},
    {AT_SOCKET, {EMFILE, ENOBUFS}},
    {AT_BIND, {EADDRINUSE, EACCES}},
    {AT_LISTEN, {EADDRINUSE}},
    {AT_ACCEPT, {EMFILE, ENFILE, ENOBUFS, ENOMEM}},
    {AT_CONNECT, {ECONNREFUSED, ENETUNREACH}},
    {AT_GETOPT, {ENOBUFS}},
    {AT_SETOPT, {EINVAL}},
    {AT_NAME, {ENOBUFS}},
    {AT_SHUTDOWN, {ENOBUFS}},
    {AT_CLOSE, {EIO}},
    {AT_FLAGS, {EPERM}},
    {AT_OPEN, {EACCES, EMFILE}},
    {AT_STAT, {EIO}},
    {AT_SYNC, {EIO}},
    {AT_RENAME, {EACCES}},
    {AT_ACTION, {EINVAL}},
    {AT_REAP, {EINVAL}},
};

static void try_refused(const operation *what, unsigned where) {
    for (size_t i = 0; i < COUNT(refusals); i++)
        for (const int *error = refusals[i].errors; *error != 0; error++)
            if ((where == IN_TASK && !TESTING_ASAN) ||
                error == refusals[i].errors) /* it is the same code */
                try_told(what, where, refusals[i].at, *error);
}

START_TEST(what_the_system_refuses_is_told) {
    try_all(try_refused);
}
END_TEST

/* One that a stream could not be made of is as it was: it may be closed as one likes, and its
   number be another's then. */
static void *refuse_streams(void *arg) {
    watch_for_hangs();
    for (int turn = 0; turn < 4; turn++) {
        snprintf(story, sizeof story, "stream_open refused, turn %d", turn);
        set_up(find_operation("io_read, later"));
        arm(AT_MEMORY, 1, LONG_MAX, ENOMEM);
        must_be(mtask_stream_open(&now.stream, now.ends[0], NULL), MTASK_NOMEM);
        (void)disarm(AT_MEMORY);
        must(now.stream == NULL);
        must(is_blocking(now.ends[0]));
        must_be(read_text(), MTASK_OK);
        check_text(MTASK_OK);
        tear_down_foreign();
    }
    return arg;
}

START_TEST(a_refused_descriptor_is_left_as_it_was) {
    everywhere(refuse_streams, NULL);
}
END_TEST

/* ---- descriptors with high numbers, of which mtask must take note ---- */

/* Nothing that it makes is kept if it cannot be noted. */
static void refuse_number(const char *name) {
    const operation *what = find_operation(name);
    int before;
    snprintf(story, sizeof story, "%s, of a high number", name);
    set_up(what);
    before = count_fds();
    arm(AT_MEMORY, 1, LONG_MAX, ENOMEM);
    must_be(what->act(), MTASK_NOMEM);
    (void)disarm(AT_MEMORY);
    must(count_fds() == before);
    must(now.fd == -1);
    if (now.listener >= 0)
        must(close(now.listener) == 0);
    for (int i = 0; i < 2; i++)
        if (now.ends[i] >= 0)
            must(close(now.ends[i]) == 0);
}

static void *refuse_numbers(void *arg) {
    static const char *const names[] = {"io_pipe",    "io_pair",        "io_adopt",
                                        "tcp_accept", "tcp_connect",    "tcp_connect, Unix",
                                        "tcp_listen", "udp_open, local"};
    for (size_t i = 0; i < COUNT(names); i++)
        refuse_number(names[i]);
    return arg;
}

START_TEST(what_cannot_be_noted_is_closed) {
    struct rlimit most;
    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &most), 0);
    most.rlim_cur = most.rlim_max < 2000 ? most.rlim_max : 2000;
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &most), 0);
    if (most.rlim_cur < 1100)
        return;
    watch_for_hangs();
    while (dup(0) < 1023) { /* numbers are noted in chunks of so many */
    }
    (void)refuse_numbers(NULL);
    (void)in_loop(refuse_numbers, NULL);
    warm_up(find_operation("io_pair"), IN_THREAD);
}
END_TEST

/* ---- what has another way ---- */

/* Whatever the system does not know, or does not allow, is done in another way. */
static const struct {
    point at;
    int errors[6];
} detours[] = {
    {AT_SENDFILE, {EINVAL, ENOSYS, EOPNOTSUPP}},
    {AT_PEEK, {EOPNOTSUPP, ENOSYS, EINVAL}},
    {AT_PIDFD, {ENOSYS, EPERM, EINVAL}},
    {AT_ACCEPT, {ECONNABORTED, EPROTO}},
    {AT_CTL, {EEXIST, ENOENT}},
    {AT_CONNECT, {EINPROGRESS}},
};

static void try_detours(const operation *what, unsigned where) {
    for (size_t i = 0; i < COUNT(detours); i++)
        for (const int *error = detours[i].errors; *error != 0; error++) {
            plan it = {what, where, detours[i].at, 1, 1, *error, false, false};
            unnoticed += try_each(it);
            it.number = LONG_MAX;
            it.first = 1;
            if (it.at != AT_ACCEPT && it.at != AT_CONNECT && it.at != AT_CTL)
                (void)try_balanced(&it);
        }
}

START_TEST(what_the_system_does_not_know_is_done_otherwise) {
    unnoticed = 0;
    try_all(try_detours);
    ck_assert_int_gt(unnoticed, 0);
}
END_TEST

/* ---- names that cannot be looked up ---- */

/* What getaddrinfo may answer, and what is made of that; MTASK_FAILED: any that is documented. */
static const struct {
    int answer;
    mtask_status status;
    int error;
} lookups[] = {
    {EAI_NONAME, MTASK_NOT_FOUND, 0},   {EAI_SERVICE, MTASK_NOT_FOUND, 0},
    {EAI_NODATA, MTASK_NOT_FOUND, 0},   {EAI_ADDRFAMILY, MTASK_NOT_FOUND, 0},
    {EAI_MEMORY, MTASK_NOMEM, 0},       {EAI_AGAIN, MTASK_SYSTEM, EAGAIN},
    {EAI_SYSTEM, MTASK_SYSTEM, EMFILE}, {EAI_FAIL, MTASK_FAILED, 0},
    {EAI_FAMILY, MTASK_FAILED, 0},      {EAI_BADFLAGS, MTASK_FAILED, 0},
    {EAI_SOCKTYPE, MTASK_FAILED, 0},    {EAI_OVERFLOW, MTASK_FAILED, 0},
};

static void check_lookup(size_t i, mtask_status (*call)(void)) {
    bool any = lookups[i].status == MTASK_FAILED;
    mtask_status status;
    int seen;
    arm(AT_LOOKUP, 1, LONG_MAX, lookups[i].answer == EAI_SYSTEM ? EMFILE : lookups[i].answer);
    errno = 0;
    status = call();
    seen = errno;
    must(disarm(AT_LOOKUP) > 0);
    if (any)
        must(status == MTASK_NOT_FOUND || status == MTASK_SYSTEM || status == MTASK_INVALID);
    else
        must_be(status, lookups[i].status);
    must(status != MTASK_SYSTEM || seen > 0);
    must(lookups[i].error == 0 || seen == lookups[i].error);
}

static mtask_status connect_named(void) {
    mtask_status status = mtask_tcp_connect(&now.fd, "localhost:9", LONG);
    must(now.fd == -1);
    return status;
}

static mtask_status listen_named(void) {
    mtask_status status = mtask_tcp_listen(&now.fd, "localhost:0", NULL);
    must(now.fd == -1);
    return status;
}

static void check_lookups(size_t i) {
    balance before, after;
    snprintf(story, sizeof story, "%s", gai_strerror(lookups[i].answer));
    for (int round = 0; round < ROUNDS; round++) {
        before = take_balance();
        check_lookup(i, resolve);
        check_lookup(i, connect_named);
        check_lookup(i, listen_named);
        check_lookup(i, open_udp_remote);
        after = take_balance();
        if (is_balanced(&before, &after))
            return;
    }
    must_balance(&before, &after);
}

static void *look_up(void *arg) {
    watch_for_hangs();
    must_be(resolve(), MTASK_OK);
    for (size_t i = 0; i < COUNT(lookups); i++)
        check_lookups(i);
    must_be(resolve(), MTASK_OK);
    return arg;
}

START_TEST(a_name_that_cannot_be_looked_up_is_told) {
    everywhere(look_up, NULL);
}
END_TEST

/* ---- waits that the system refuses ---- */

/* A loop tries again, with pauses; where it waits as threads do, one cannot tell the two apart. */
static void try_without_poll(const operation *what, unsigned where) {
    plan it = {what, where, AT_LOOP, 1, 3, ENOMEM, false, false};
    if (where == IN_THREAD || USES_EPOLL)
        try_told(what, where, AT_POLL, ENOMEM);
    if (where == IN_TASK)
        (void)try_each(it);
}

START_TEST(a_wait_that_the_system_refuses_is_told_or_repeated) {
    try_all(try_without_poll);
}
END_TEST

/* ---- the first time ---- */

/* In a child, where nothing was made before that stays for later use. */
static void *try_first(void *arg) {
    plan *it = (plan *)arg;
    watch_for_hangs();
    it->number = try_once(it);
    return arg;
}

/* Returns whether a call failed. */
static bool try_in_child(plan it) {
    int status = 0;
    pid_t pid;
    tell_story(&it);
    fflush(NULL);
    pid = fork();
    if (pid == 0) {
        if (it.where == IN_TASK)
            (void)in_loop(try_first, &it);
        else
            (void)try_first(&it);
        _exit(it.number > 0 ? 100 : 101);
    }
    must(pid > 0 && waitpid(pid, &status, 0) == pid);
    must(WIFEXITED(status) && (WEXITSTATUS(status) == 100 || WEXITSTATUS(status) == 101));
    return WEXITSTATUS(status) == 100;
}

static const struct {
    point at;
    int error;
} firsts[] = {{AT_MEMORY, ENOMEM}, {AT_THREAD, EAGAIN}, {AT_EVENT, EMFILE},
              {AT_PIPE, ENFILE},   {AT_CTL, ENOMEM},    {AT_ACTION, EINVAL}};

static void try_cold(const operation *what, unsigned where) {
    for (size_t i = 0; i < COUNT(firsts); i++) {
        plan it = {what, where, firsts[i].at, 1, 1, firsts[i].error, true, true};
        for (; try_in_child(it); it.first += TESTING_TSAN ? 3 : 1) /* it takes its time to end */
            must(it.first < 200);
    }
}

START_TEST(what_is_needed_the_first_time_may_be_refused) {
    static const char *const names[] = {"offload",    "offload_for", "signals_create",
                                        "child_wait", "stream_open", "io_wait of later input, own"};
    for (size_t i = 0; i < COUNT(names); i++) {
        try_cold(find_operation(names[i]), IN_THREAD);
        try_cold(find_operation(names[i]), IN_TASK);
    }
}
END_TEST

/* ---- a loop of which all tasks wait for threads ---- */

static void *nap(void *arg) {
    testing_pause(3);
    return double_it(arg);
}

/* What these threads do ends the waits, though nobody outside does: that is no dead-lock. */
static void *offload_slowly(void *arg) {
    mtask_address address;
    long numbers[2] = {21, 21};
    size_t count;
    ck_assert_status(mtask_offload(nap, &numbers[0], NULL), MTASK_OK);
    ck_assert_status(mtask_offload_for(nap, &numbers[1], sizeof(long), NULL, NULL, MTASK_FOREVER),
                     MTASK_OK);
    ck_assert(numbers[0] == 42 && numbers[1] == 42);
    ck_assert_status(mtask_resolve("localhost:9", &address, 1, &count, MTASK_FOREVER), MTASK_OK);
    return arg;
}

START_TEST(a_wait_for_a_thread_is_no_dead_lock) {
    mtask_loop_desc desc = {.no_external_wakers = true};
    ck_assert_status(mtask_loop_run_ex(offload_slowly, NULL, NULL, &desc), MTASK_OK);
}
END_TEST

/* ---- servers ---- */

/* Answers each line. */
static void greet(mtask_stream *stream, void *ctx) {
    char *line;
    (void)ctx;
    while (mtask_stream_read_line(stream, &line, NULL, LONG) == MTASK_OK)
        if (mtask_stream_printf(stream, LONG, "hello %s\n", line) != MTASK_OK)
            break;
}

/* A client, past mtask: self->number becomes whether it was answered, within self->took. */
static void be_client(testing_member *self) {
    const mtask_address *to = (const mtask_address *)self->arg;
    static const char expected[] = "hello you\n";
    struct timeval patience = {0, 20000};
    char got[64];
    size_t count = 0;
    ssize_t size = 1;
    int fd = socket(to->as.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (self->index > 0)
        patience.tv_sec = 20; /* nothing fails any more */
    testing_check(fd >= 0);
    testing_check(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience) == 0);
    if (connect(fd, &to->as.any, to->size) == 0 && send(fd, "you\n", 4, MSG_NOSIGNAL) == 4)
        while (count < sizeof expected - 1 && size > 0) {
            size = recv(fd, got + count, sizeof got - count, 0);
            count += size > 0 ? (size_t)size : 0;
        }
    self->number = count == sizeof expected - 1 && memcmp(got, expected, count) == 0;
    testing_check(close(fd) == 0);
}

/* Runs a client to its end; whether it was answered. */
static bool ask_server(bool patiently) {
    static testing_crowd crowd;
    mtask_address address;
    testing_member *client;
    must_be(mtask_server_address(now.server, &address), MTASK_OK);
    crowd.count = patiently;
    client = testing_crowd_add(&crowd, be_client, &address);
    while (!testing_has_finished(client))
        (void)mtask_sleep(MTASK_US(100));
    must(pthread_join(client->thread, NULL) == 0);
    return client->number != 0;
}

static void check_stats(void) {
    mtask_server_stats stats = mtask_server_get_stats(now.server);
    must(stats.accepted >= 1);
    must(stats.connections <= stats.accepted);
}

/* Starts a server and asks it, as planned; the first question may stay without an answer. */
static long serve_once(const plan *it) {
    mtask_serve_desc desc = {.grace = -1, .close_timeout = MTASK_SEC(1)};
    mtask_status status;
    bool answered = false;
    long hits;
    int seen;
    tell_story(it);
    memset(&now, 0, sizeof now);
    desc.loops = it->where == IN_TASK ? 0 : 1 + (unsigned)(it->first & 1);
    arm(it->at, it->first, it->number, it->error);
    errno = 12345;
    status = mtask_server_start(&now.server, "127.0.0.1:0", greet, &desc);
    seen = errno;
    must((status == MTASK_OK) == (now.server != NULL));
    if (status == MTASK_OK)
        answered = ask_server(false);
    hits = disarm(it->at);
    if (is_verbose() && hits > 0)
        fprintf(stderr, "%s: %s, %s, %s\n", story, mtask_status_name(status), strerror(seen),
                answered ? "answered" : "not answered");
    must(hits > 0 ? status == MTASK_OK || explains(it, status, seen) : status == MTASK_OK);
    if (status != MTASK_OK)
        return hits;
    must(ask_server(true));
    check_stats();
    must_be(mtask_server_destroy(now.server), MTASK_OK);
    return hits;
}

/* The server listens: from now on nothing fails, and it serves. */
static void ask_and_stop(mtask_server *server, void *ctx) {
    now.count = (size_t)disarm(((const plan *)ctx)->at);
    now.server = server;
    must(ask_server(true));
    mtask_server_stop(server);
}

/* The whole of a server, which begins as planned, or says that it cannot. */
static long serve_whole(const plan *it) {
    mtask_serve_desc desc = {.grace = -1, .signals = true, .on_ready = ask_and_stop};
    mtask_status status;
    int seen;
    tell_story(it);
    memset(&now, 0, sizeof now);
    desc.ctx = (void *)(uintptr_t)it;
    arm(it->at, it->first, it->number, it->error);
    errno = 12345;
    status = mtask_serve("127.0.0.1:0", greet, &desc);
    seen = errno;
    now.count += (size_t)disarm(it->at) * (now.server == NULL);
    must((status == MTASK_OK) == (now.server != NULL));
    must(status == MTASK_OK || explains(it, status, seen));
    return (long)now.count;
}

/* The same; what it leaves behind is left only once. */
static long serve_balanced(const plan *it, long (*serve)(const plan *it)) {
    balance before, after;
    long hits = 0;
    for (int round = 0; round < ROUNDS; round++) {
        before = take_balance();
        hits = serve(it);
        after = take_balance();
        if (is_balanced(&before, &after))
            return hits;
    }
    must_balance(&before, &after);
    return hits;
}

static const struct {
    point at;
    long number;
    int error;
} server_failures[] = {
    {AT_MEMORY, 1, ENOMEM},       {AT_MEMORY, 5, ENOMEM},     {AT_ACCEPT, 1, ECONNRESET},
    {AT_ACCEPT, 1, ETIMEDOUT},    {AT_THREAD, 1, EAGAIN},     {AT_EPOLL, 1, EMFILE},
    {AT_EVENT, 1, EMFILE},        {AT_CTL, 1, ENOMEM},        {AT_SOCKET, 1, EMFILE},
    {AT_BIND, 1, EADDRINUSE},     {AT_LISTEN, 1, EADDRINUSE}, {AT_SETOPT, 1, EINVAL},
    {AT_NAME, 1, ENOBUFS},        {AT_ACCEPT, 3, EINTR},      {AT_ACCEPT, 3, EAGAIN},
    {AT_ACCEPT, 2, ECONNABORTED}, {AT_ACCEPT, 1, EMFILE},     {AT_ACCEPT, 1, ENOMEM},
    {AT_READ, 1, ECONNRESET},     {AT_READ, 3, EINTR},        {AT_WRITE, 1, EPIPE},
    {AT_WRITE, 3, EAGAIN},        {AT_CLOSE, 1, EIO},         {AT_LOOP, 3, EINTR},
    {AT_POLL, 3, EINTR},          {AT_SHORT, LONG_MAX, 0},    {AT_CLEAR, 2, EAGAIN},
    {AT_FLAGS, 1, EPERM},
};

static void *serve_each(void *arg) {
    static const operation server = {.name = "server"};
    plan it = {
        &server, mtask_loop_current() != NULL ? IN_TASK : IN_THREAD, AT_MEMORY, 0, 0, 0, false,
        false};
    for (int i = 0; i < 2; i++)
        (void)serve_once(&it);
    for (size_t i = 0; i < COUNT(server_failures); i++) {
        long hits = 1, most = server_failures[i].number == LONG_MAX ? 3 : 100;
        it.at = server_failures[i].at;
        it.number = server_failures[i].number;
        it.error = server_failures[i].error;
        watch_for_hangs();
        for (it.first = 1; hits > 0 && it.first <= most; it.first++)
            hits = serve_balanced(&it, serve_once);
    }
    return arg;
}

static void *serve_wholly(void *arg) {
    static const point points[] = {AT_MEMORY, AT_THREAD, AT_EPOLL, AT_EVENT,  AT_CTL,    AT_PIPE,
                                   AT_ACTION, AT_SOCKET, AT_BIND,  AT_LISTEN, AT_SETOPT, AT_NAME};
    static const operation server = {.name = "serve"};
    plan it = {&server, mtask_loop_current() != NULL ? IN_TASK : IN_THREAD, AT_MEMORY, 0, 0, 0, 0,
               0};
    (void)serve_whole(&it);
    for (size_t i = 0; i < COUNT(points); i++) {
        long hits = 1;
        it.at = points[i];
        it.number = 1;
        it.error = points[i] == AT_ACTION ? EINVAL : points[i] == AT_MEMORY ? ENOMEM : EMFILE;
        watch_for_hangs();
        for (it.first = 1; hits > 0; it.first++)
            hits = serve_balanced(&it, serve_whole);
    }
    return arg;
}

START_TEST(a_server_that_cannot_begin_says_so) {
    (void)serve_wholly(NULL);
    (void)in_loop(serve_wholly, NULL);
}
END_TEST

START_TEST(a_server_in_threads_survives) {
    (void)serve_each(NULL);
}
END_TEST

START_TEST(a_server_in_a_loop_survives) {
    (void)in_loop(serve_each, NULL);
}
END_TEST

TESTING_MAIN("mtask_io_failure", what_a_signal_interrupts_goes_on,
             what_is_not_ready_after_all_is_waited_for, transfers_of_one_byte_make_no_difference,
             what_finds_no_memory_is_refused, what_the_system_refuses_is_told,
             a_refused_descriptor_is_left_as_it_was, what_cannot_be_noted_is_closed,
             what_the_system_does_not_know_is_done_otherwise,
             a_name_that_cannot_be_looked_up_is_told,
             a_wait_that_the_system_refuses_is_told_or_repeated,
             what_is_needed_the_first_time_may_be_refused, a_wait_for_a_thread_is_no_dead_lock,
             a_server_that_cannot_begin_says_so, a_server_in_threads_survives,
             a_server_in_a_loop_survives)
