/* testing_io.h - descriptors, what flows through them, and who waits for them; for tests of
   mtask_io.h

   A flow is a function that runs in a task of a loop or in a plain thread. What a test says of two
   flows it says of each pair of places where they can run. */
#ifndef MTASK_TESTING_IO_H
#define MTASK_TESTING_IO_H

#include "testing_coro.h"

#include "../mtask_io.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>

/* ---- descriptors ---- */

/* A pipe of mtask's own. */
static TESTING_UNUSED void open_pipe(int ends[2]) {
    ck_assert_status(mtask_io_pipe(ends), MTASK_OK);
}

/* Two connected sockets of mtask's own. */
static TESTING_UNUSED void open_pair(int ends[2]) {
    ck_assert_status(mtask_io_pair(ends), MTASK_OK);
}

/* A pipe of which mtask does not know; it blocks. */
static TESTING_UNUSED void plain_pipe(int ends[2]) {
    testing_check(pipe(ends) == 0);
}

/* Two connected sockets of which mtask does not know; they block. */
static TESTING_UNUSED void plain_pair(int ends[2]) {
    testing_check(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
}

/* A socket of TCP; `bytes` (0: what the system likes) is about how much fits into it, in segments
   that are small against that: full and emptied, it goes on at once and not by a timer. */
static TESTING_UNUSED int tcp_socket(int bytes) {
    int fd = socket(AF_INET, SOCK_STREAM, 0), segment = 1024;
    testing_check(fd >= 0);
    if (bytes == 0)
        return fd;
    testing_check(setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes) == 0);
    testing_check(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes) == 0);
    testing_check(setsockopt(fd, IPPROTO_TCP, TCP_MAXSEG, &segment, sizeof segment) == 0);
    return fd;
}

/* Two connected sockets of TCP of which mtask does not know; they block. */
static TESTING_UNUSED void tcp_pair(int ends[2], int bytes) {
    struct sockaddr_in here;
    socklen_t size = sizeof here;
    int listener = tcp_socket(bytes);
    memset(&here, 0, sizeof here);
    here.sin_family = AF_INET;
    here.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    testing_check(bind(listener, (struct sockaddr *)&here, sizeof here) == 0);
    testing_check(listen(listener, 1) == 0);
    testing_check(getsockname(listener, (struct sockaddr *)&here, &size) == 0);
    ends[0] = tcp_socket(bytes);
    testing_check(connect(ends[0], (struct sockaddr *)&here, size) == 0);
    ends[1] = accept(listener, NULL, NULL);
    testing_check(ends[1] >= 0);
    close(listener);
}

static TESTING_UNUSED void plain_tcp(int ends[2]) {
    tcp_pair(ends, 0);
}

/* The same, of mtask's own. */
static TESTING_UNUSED void open_tcp(int ends[2]) {
    plain_tcp(ends);
    ck_assert_status(mtask_io_adopt(ends[0]), MTASK_OK);
    ck_assert_status(mtask_io_adopt(ends[1]), MTASK_OK);
}

/* Closes a descriptor of mtask's own. */
static TESTING_UNUSED void end_fd(int fd) {
    ck_assert_status(mtask_io_close(fd), MTASK_OK);
}

static TESTING_UNUSED void end_fds(const int ends[2]) {
    end_fd(ends[0]);
    end_fd(ends[1]);
}

/* Closes two descriptors of which mtask does not know. */
static TESTING_UNUSED void end_plain(const int ends[2]) {
    testing_check(close(ends[0]) == 0);
    testing_check(close(ends[1]) == 0);
}

/* How many descriptors this process has open. */
static TESTING_UNUSED int count_fds(void) {
    DIR *dir = opendir("/proc/self/fd");
    int count = -1; /* the directory's own */
    testing_check(dir != NULL);
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;)
        count += entry->d_name[0] != '.';
    closedir(dir);
    return count;
}

/* Whether the descriptor blocks. */
static TESTING_UNUSED bool is_blocking(int fd) {
    int flags = fcntl(fd, F_GETFL);
    testing_check(flags >= 0);
    return (flags & O_NONBLOCK) == 0;
}

static TESTING_UNUSED void set_blocking(int fd, bool blocking) {
    int flags = fcntl(fd, F_GETFL);
    testing_check(flags >= 0);
    flags = blocking ? flags & ~O_NONBLOCK : flags | O_NONBLOCK;
    testing_check(fcntl(fd, F_SETFL, flags) == 0);
}

/* Which of `events` of poll are there now, and POLLHUP, POLLERR and POLLNVAL. */
static TESTING_UNUSED short polled(int fd, short events) {
    struct pollfd one = {fd, events, 0};
    testing_check(poll(&one, 1, 0) >= 0);
    return one.revents;
}

/* ---- what flows through them ---- */

/* Writes a text, for which there is room, past mtask. */
static TESTING_UNUSED void feed(int fd, const char *text) {
    size_t size = strlen(text);
    testing_check(write(fd, text, size) == (ssize_t)size);
}

/* Fails the test unless this text, all of which is there, is read, past mtask. */
static TESTING_UNUSED void check_fed(int fd, const char *text) {
    char got[256];
    size_t size = strlen(text);
    testing_check(size < sizeof got && read(fd, got, size) == (ssize_t)size);
    got[size] = '\0';
    ck_assert_str_eq(got, text);
}

/* Writes until there is no room, past mtask; how many bytes that took. */
static TESTING_UNUSED size_t fill_fd(int fd) {
    static const char zeroes[4096];
    bool blocking = is_blocking(fd);
    size_t total = 0;
    ssize_t done;
    set_blocking(fd, false);
    for (size_t piece = sizeof zeroes; piece > 0; piece /= 64) /* the last bytes one by one */
        while ((done = write(fd, zeroes, piece)) > 0)
            total += (size_t)done;
    testing_check(done < 0 && errno == EAGAIN);
    set_blocking(fd, blocking);
    return total;
}

/* Reads all that is there now, past mtask; how many bytes that were. */
static TESTING_UNUSED size_t drain_fd(int fd) {
    char bytes[4096];
    bool blocking = is_blocking(fd);
    size_t total = 0;
    ssize_t done;
    set_blocking(fd, false);
    while ((done = read(fd, bytes, sizeof bytes)) > 0)
        total += (size_t)done;
    testing_check(done == 0 || errno == EAGAIN);
    set_blocking(fd, blocking);
    return total;
}

/* The byte that stands at `offset` of a long input that a test makes up. */
static TESTING_UNUSED unsigned char pattern_at(size_t offset) {
    return (unsigned char)(offset * 31 + offset / 251);
}

static TESTING_UNUSED void make_pattern(void *buffer, size_t offset, size_t size) {
    unsigned char *bytes = (unsigned char *)buffer;
    for (size_t i = 0; i < size; i++)
        bytes[i] = pattern_at(offset + i);
}

static TESTING_UNUSED void check_pattern(const void *buffer, size_t offset, size_t size) {
    const unsigned char *bytes = (const unsigned char *)buffer;
    for (size_t i = 0; i < size; i++)
        testing_check(bytes[i] == pattern_at(offset + i));
}

/* A file of `size` bytes of the pattern that vanishes when it is closed. */
static TESTING_UNUSED int open_file(size_t size) {
    char path[] = "/tmp/mtask-test-XXXXXX";
    unsigned char bytes[4096];
    int fd = mkstemp(path);
    testing_check(fd >= 0 && unlink(path) == 0);
    for (size_t done = 0, piece; done < size; done += piece) {
        piece = size - done < sizeof bytes ? size - done : sizeof bytes;
        make_pattern(bytes, done, piece);
        testing_check(write(fd, bytes, piece) == (ssize_t)piece);
    }
    testing_check(lseek(fd, 0, SEEK_SET) == 0);
    return fd;
}

/* ---- flows ---- */

/* Where two flows run. */
typedef enum place {
    IN_TASKS,        /* of one loop */
    IN_LOOPS,        /* tasks of two loops */
    TASK_AND_THREAD, /* the first is a task, the second a plain thread */
    THREAD_AND_TASK,
    IN_THREADS,
    PLACES
} place;

typedef struct flow {
    mtask_fn fn;
    void *arg;
    void *value;  /* what it has returned */
    bool in_loop; /* it is a task */
    int tid;      /* of the thread it runs in; 0 until it runs */
    mtask_word begun;
    mtask_word ended;
} flow;

static TESTING_UNUSED int own_tid(void) {
    return (int)syscall(SYS_gettid);
}

/* Runs a flow, from a task or from a thread. */
static TESTING_UNUSED void *flow_main(void *arg) {
    flow *self = (flow *)arg;
    __atomic_store_n(&self->tid, own_tid(), __ATOMIC_SEQ_CST);
    mtask_word_store(&self->begun, 1);
    self->value = self->fn(self->arg);
    mtask_word_store(&self->ended, 1);
    return self->value;
}

static TESTING_UNUSED void flow_of_crowd(testing_member *self) {
    flow *one = &((flow *)self->arg)[self->index];
    if (one->in_loop)
        (void)in_loop(flow_main, one);
    else
        (void)flow_main(one);
}

static TESTING_UNUSED void *flows_as_tasks(void *arg) {
    flow *both = (flow *)arg;
    mtask_future *first = go(flow_main, &both[0]);
    (void)take(go(flow_main, &both[1]));
    return take(first);
}

static TESTING_UNUSED bool flow_has_ended(const flow *other) {
    return mtask_word_load(&other->ended) != 0;
}

/* Lets time pass, and the other tasks of a loop go on. */
static TESTING_UNUSED void linger(void) {
    (void)mtask_sleep(MTASK_US(200));
}

/* Returns when the other flow has begun, and waits, or has ended. */
static TESTING_UNUSED void await_flow(const flow *other) {
    while (mtask_word_load(&other->begun) == 0)
        linger();
    if (__atomic_load_n(&other->tid, __ATOMIC_SEQ_CST) == own_tid()) {
        for (int turn = 0; turn < 4; turn++) /* a task of this loop: it runs until it waits */
            (void)mtask_yield();
        return;
    }
    while (!flow_has_ended(other) && !testing_is_asleep(getpid(), other->tid))
        linger();
}

/* Runs two flows side by side until both have returned. */
static TESTING_UNUSED void run_flows(flow both[2], place where) {
    testing_crowd crowd;
    both[0].in_loop = where == IN_TASKS || where == IN_LOOPS || where == TASK_AND_THREAD;
    both[1].in_loop = where == IN_TASKS || where == IN_LOOPS || where == THREAD_AND_TASK;
    if (where == IN_TASKS) {
        (void)in_loop(flows_as_tasks, both);
        return;
    }
    testing_crowd_start(&crowd, 2, flow_of_crowd, both);
    testing_crowd_join(&crowd);
}

/* The same, of two functions that need not know of each other. */
static TESTING_UNUSED void run_both(mtask_fn first, void *first_arg, mtask_fn second,
                                    void *second_arg, place where) {
    flow both[2];
    memset(both, 0, sizeof both);
    both[0].fn = first;
    both[0].arg = first_arg;
    both[1].fn = second;
    both[1].arg = second_arg;
    run_flows(both, where);
}

/* Runs fn(arg) in a plain thread of its own, to its end. */
static TESTING_UNUSED void *in_thread(mtask_fn fn, void *arg) {
    void *value = NULL;
    pthread_t thread;
    testing_check(pthread_create(&thread, NULL, fn, arg) == 0);
    testing_check(pthread_join(thread, &value) == 0);
    return value;
}

/* Runs fn(arg) in a plain thread, and then in a task. */
static TESTING_UNUSED void everywhere(mtask_fn fn, void *arg) {
    (void)in_thread(fn, arg);
    (void)in_loop(fn, arg);
}

/* ---- a folder of a test's own ---- */

static TESTING_UNUSED char folder[] = "/tmp/mtask-test-XXXXXX";

static TESTING_UNUSED void open_folder(void) {
    testing_check(mkdtemp(folder) != NULL);
}

/* The path of what has this name there; in the same memory each time. */
static TESTING_UNUSED const char *path_of(const char *name) {
    static char path[320];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

/* How many files are in it; removes them, if they are to be. */
static TESTING_UNUSED int count_files(bool remove_them) {
    DIR *dir = opendir(folder);
    int count = 0;
    testing_check(dir != NULL);
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        count++;
        testing_check(!remove_them || remove(path_of(entry->d_name)) == 0);
    }
    closedir(dir);
    return count;
}

/* Removes the folder with all that is in it. */
static TESTING_UNUSED void end_folder(void) {
    (void)count_files(true);
    testing_check(rmdir(folder) == 0);
}

/* Waits for something that does not come: what a first wait of a thread opens is open then. */
static TESTING_UNUSED void wait_once(void) {
    int ends[2];
    open_pipe(ends);
    ck_assert_status(mtask_io_wait(ends[0], MTASK_IO_READ, 1), MTASK_TIMEOUT);
    end_fds(ends);
}

/* ---- words ---- */

/* Returns when the word holds at least `value`; other tasks of a loop go on meanwhile. */
static TESTING_UNUSED void await_value(const mtask_word *word, mtask_word value) {
    while (mtask_word_load(word) < value)
        linger();
}

#endif
