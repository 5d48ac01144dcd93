/* test_mtask_io.c - descriptors: waiting for them, reading, writing, closing; in tasks, in threads

   A scene is a call that has to wait, on a descriptor of some kind: one flow makes it, another one
   ends its wait. Most tests play one for each call, kind of descriptor, and pair of places. */
#include "testing_io.h"

#include <limits.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <termios.h>

/* ThreadSanitizer would otherwise end a child of a threaded process that starts a thread. */
const char *__tsan_default_options(void);
const char *__tsan_default_options(void) {
    return "die_after_fork=0:report_thread_leaks=0";
}

/* Longer than any test takes: what ends such a wait is not the time. */
#define LONG MTASK_SEC(100000)

#define SHORT MTASK_US(300)

#define COUNT_OF(array) ((long)(sizeof(array) / sizeof(array)[0]))

/* ---- kinds of descriptors ---- */

enum { ROOM = 32768 }; /* bytes that fit into a socket, more or less */

/* Pairs with little room in them, so that they are full soon. */
static void narrow_plain_pair(int ends[2]) {
    int bytes = ROOM;
    plain_pair(ends);
    testing_check(setsockopt(ends[1], SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes) == 0);
}

static void narrow_plain_tcp(int ends[2]) {
    tcp_pair(ends, ROOM);
}

static void adopt_both(const int ends[2]) {
    ck_assert_status(mtask_io_adopt(ends[0]), MTASK_OK);
    ck_assert_status(mtask_io_adopt(ends[1]), MTASK_OK);
}

static void narrow_pair(int ends[2]) {
    narrow_plain_pair(ends);
    adopt_both(ends);
}

static void narrow_tcp(int ends[2]) {
    narrow_plain_tcp(ends);
    adopt_both(ends);
}

/* Those of which mtask does not know need not block. */
static void quiet_plain_pair(int ends[2]) {
    narrow_plain_pair(ends);
    set_blocking(ends[0], false);
    set_blocking(ends[1], false);
}

static void quiet_plain_pipe(int ends[2]) {
    plain_pipe(ends);
    set_blocking(ends[0], false);
    set_blocking(ends[1], false);
}

/* What is written to the second end is read from the first. */
typedef struct kind {
    const char *name;
    void (*open)(int ends[2]);
    bool own; /* mtask's */
    bool tcp;
    bool socket;
} kind;

static const kind kinds[] = {
    {"pipe", open_pipe, true, false, false},
    {"pair", narrow_pair, true, false, true},
    {"tcp", narrow_tcp, true, true, true},
    {"plain pipe", plain_pipe, false, false, false},
    {"plain pair", narrow_plain_pair, false, false, true},
    {"plain tcp", narrow_plain_tcp, false, true, true},
    {"quiet pipe", quiet_plain_pipe, false, false, false},
    {"quiet pair", quiet_plain_pair, false, false, true},
};

enum { KINDS = sizeof kinds / sizeof kinds[0] };

/* Closes an end, if it is open, as its kind has to be closed. */
static void end_one(const kind *of, int *fd) {
    if (*fd < 0)
        return;
    if (of->own)
        end_fd(*fd);
    else
        testing_check(close(*fd) == 0);
    *fd = -1;
}

/* Calls fn(&kinds[i]) for each of them, in a thread and in a task. */
static void each_kind(mtask_fn fn) {
    for (long i = 0; i < KINDS; i++)
        everywhere(fn, (void *)&kinds[i]);
}

/* ---- calls that wait, and scenes in which they do ---- */

#define PIECE 8 /* bytes that a call of the table moves */

static const char letters[] = "abcdefgh";

typedef struct scene scene;

typedef struct call {
    const char *name;
    mtask_status (*make)(scene *s, int64_t timeout);
    bool writes;
    bool moves; /* bytes */
} call;

/* In what the call is made. */
typedef enum manner {
    DIRECTLY,
    IN_CORO,    /* a coroutine that is resumed by hand */
    NOT_PARKED, /* mtask_nopark_begin */
    MANNERS
} manner;

struct scene {
    const kind *of;
    const call *what;
    place where;
    manner how;
    int64_t timeout;
    int ends[2];   /* -1: closed */
    int fd;        /* on which the call is made */
    int file;      /* to be sent */
    size_t before; /* bytes that fill the pipe */
    char buffer[PIECE];
    unsigned ready;
    size_t count;
    mtask_status status;
    int error;
    flow flows[2];
    long turns; /* of another task */
};

static mtask_status make_wait_read(scene *s, int64_t timeout) {
    return mtask_io_wait(s->fd, MTASK_IO_READ, timeout);
}

static mtask_status make_wait_write(scene *s, int64_t timeout) {
    return mtask_io_wait(s->fd, MTASK_IO_WRITE, timeout);
}

/* Among others that never are. */
static mtask_status make_select(scene *s, unsigned events, int64_t timeout) {
    mtask_io_case cases[3] = {
        {-1, MTASK_IO_READ, 7}, {-1, MTASK_IO_READ, 7}, {-1, MTASK_IO_WRITE, 7}};
    mtask_status status;
    cases[1].fd = s->fd;
    cases[1].events = events;
    status = mtask_io_select(cases, 3, timeout);
    ck_assert_uint_eq(cases[1].ready, status == MTASK_OK ? events : 0);
    ck_assert_uint_eq(cases[0].ready | cases[2].ready, 0);
    return status;
}

static mtask_status make_select_read(scene *s, int64_t timeout) {
    return make_select(s, MTASK_IO_READ, timeout);
}

static mtask_status make_select_write(scene *s, int64_t timeout) {
    return make_select(s, MTASK_IO_WRITE, timeout);
}

static mtask_status make_read(scene *s, int64_t timeout) {
    return mtask_io_read(s->fd, s->buffer, PIECE, &s->count, timeout);
}

static mtask_status make_readv(scene *s, int64_t timeout) {
    struct iovec parts[3] = {{s->buffer, 3}, {NULL, 0}, {s->buffer + 3, PIECE - 3}};
    return mtask_io_readv(s->fd, parts, 3, &s->count, timeout);
}

static mtask_status make_write(scene *s, int64_t timeout) {
    return mtask_io_write(s->fd, letters, PIECE, &s->count, timeout);
}

static mtask_status make_writev(scene *s, int64_t timeout) {
    char copy[PIECE];
    struct iovec parts[3] = {{copy, 3}, {NULL, 0}, {copy + 3, PIECE - 3}};
    memcpy(copy, letters, PIECE);
    return mtask_io_writev(s->fd, parts, 3, &s->count, timeout);
}

static mtask_status make_sendfile(scene *s, int64_t timeout) {
    return mtask_io_sendfile(s->fd, s->file, 0, PIECE, &s->count, timeout);
}

static const call calls[] = {
    {"wait to read", make_wait_read, false, false},
    {"wait to write", make_wait_write, true, false},
    {"select to read", make_select_read, false, false},
    {"select to write", make_select_write, true, false},
    {"read", make_read, false, true},
    {"readv", make_readv, false, true},
    {"write", make_write, true, true},
    {"writev", make_writev, true, true},
    {"sendfile", make_sendfile, true, true},
};

enum { CALLS = sizeof calls / sizeof calls[0] };

/* A file that holds the letters. */
static int open_letters(void) {
    int fd = open_file(0);
    testing_check(write(fd, letters, PIECE) == PIECE && lseek(fd, 0, SEEK_SET) == 0);
    return fd;
}

/* Sets up what the call is made on. */
static void open_scene(scene *s, const call *what, const kind *of) {
    memset(s, 0, sizeof *s);
    s->of = of;
    s->what = what;
    s->timeout = LONG;
    s->file = what->make == make_sendfile ? open_letters() : -1;
    of->open(s->ends);
    s->fd = s->ends[what->writes];
}

static void close_scene(scene *s) {
    if (s->file >= 0)
        testing_check(close(s->file) == 0);
    end_one(s->of, &s->ends[0]);
    end_one(s->of, &s->ends[1]);
}

/* Has the call wait: what is to be read is empty, what is to be written is full. */
static void hold_up(scene *s) {
    size_t more;
    if (!s->what->writes)
        return;
    do {
        more = fill_fd(s->ends[1]);
        s->before += more;
        if (s->of->tcp && more > 0)
            testing_pause(1); /* what is on its way arrives */
    } while (s->of->tcp && more > 0);
}

/* Reads what the scene was filled with, and nothing of what was written since. */
static void take_out(scene *s) {
    while (s->before > 0) {
        char some[4096];
        ssize_t got = read(s->ends[0], some, s->before < sizeof some ? s->before : sizeof some);
        testing_check(got > 0);
        s->before -= (size_t)got;
    }
}

/* Lets the call go on. */
static void let_go(scene *s) {
    if (!s->what->writes)
        feed(s->ends[1], letters);
    else if (s->of->tcp)
        (void)drain_fd(s->ends[0]);
    else
        take_out(s);
}

/* Fails the test unless the letters are there to be read. */
static void check_letters(scene *s) {
    char bytes[PIECE];
    testing_check(read(s->ends[0], bytes, PIECE) == PIECE);
    ck_assert_mem_eq(bytes, letters, PIECE);
}

/* Fails the test unless the call has done its work. */
static void check_done(const scene *s) {
    if (s->status != MTASK_OK)
        ck_abort_msg("%s on a %s, place %d: %s", s->what->name, s->of->name, (int)s->where,
                     mtask_status_name(s->status));
    if (!s->what->moves)
        return;
    ck_assert_uint_eq(s->count, PIECE);
    if (!s->what->writes)
        ck_assert_mem_eq(s->buffer, letters, PIECE);
}

/* Fails the test unless the call has done nothing, and told so. */
static void check_undone(const scene *s, mtask_status expected) {
    if (s->status != expected)
        ck_abort_msg("%s on a %s, place %d: %s, not %s", s->what->name, s->of->name, (int)s->where,
                     mtask_status_name(s->status), mtask_status_name(expected));
    if (s->what->moves)
        ck_assert_uint_eq(s->count, 0);
}

static void *make_call_now(void *arg) {
    scene *s = (scene *)arg;
    s->count = 77;
    errno = 0;
    s->status = s->what->make(s, s->timeout);
    s->error = errno;
    return arg;
}

/* Makes the call in its manner, and keeps what it answers. */
static void *make_call(void *arg) {
    scene *s = (scene *)arg;
    mtask_coro *coro;
    if (s->how == IN_CORO) {
        coro = open_coro(make_call_now, arg);
        ck_assert_status(mtask_coro_resume(coro, NULL, NULL), MTASK_DONE);
        end_coro(coro);
        return arg;
    }
    if (s->how == NOT_PARKED)
        mtask_nopark_begin();
    (void)make_call_now(arg);
    if (s->how == NOT_PARKED)
        mtask_nopark_end();
    return arg;
}

/* Makes it without having to wait. */
static mtask_status make_at_once(scene *s) {
    s->timeout = MTASK_NOWAIT;
    (void)make_call_now(s);
    return s->status;
}

/* Returns when the first flow waits in its call. */
static void await_call(scene *s) {
    await_flow(&s->flows[0]);
    if (flow_has_ended(&s->flows[0]))
        ck_abort_msg("%s on a %s, place %d: %s without a wait", s->what->name, s->of->name,
                     (int)s->where, mtask_status_name(s->status));
}

/* Plays it: one flow makes the call, the other one is `second`. */
static void play(scene *s, mtask_fn second) {
    memset(s->flows, 0, sizeof s->flows);
    s->flows[0].fn = make_call;
    s->flows[1].fn = second;
    s->flows[0].arg = s->flows[1].arg = s;
    run_flows(s->flows, s->where);
}

/* Whether a scene of two flows, that in other places than two tasks takes its time, is played there
   this time. */
static bool is_played(long number, int where) {
    return where == IN_TASKS || (number + where) % 2 == 0;
}

/* Plays a scene for each call and place. Two tasks of a loop play it with each kind of descriptor,
   the others with one of them. */
static void play_all(void (*fn)(scene *s)) {
    for (long i = 0; i < CALLS; i++)
        for (int where = 0; where < PLACES; where++)
            for (int n = 0; n < (where == IN_TASKS ? KINDS : is_played(i, where)); n++) {
                scene s;
                open_scene(&s, &calls[i], &kinds[(where + n + i) % KINDS]);
                s.where = (place)where;
                s.how = (n + where) % 3 == 1 ? IN_CORO : DIRECTLY;
                s.timeout = n % 2 == 0 ? LONG : MTASK_FOREVER;
                fn(&s);
                close_scene(&s);
            }
}

/* A scene without a second flow. */
typedef struct solo {
    void (*fn)(scene *s);
    const call *what;
    const kind *of;
} solo;

static void *play_one(void *arg) {
    const solo *self = (const solo *)arg;
    scene s;
    open_scene(&s, self->what, self->of);
    self->fn(&s);
    close_scene(&s);
    return arg;
}

/* Plays one for each call and kind of descriptor, in a thread and in a task by turns. */
static void play_solo(void (*fn)(scene *s)) {
    for (long i = 0; i < CALLS; i++)
        for (int n = 0; n < KINDS; n++) {
            solo self = {fn, &calls[i], &kinds[n]};
            if ((i + n) % 2 == 0) /* both with each kind of pipe, pair and connection */
                (void)in_thread(play_one, &self);
            else
                (void)in_loop(play_one, &self);
        }
}

/* ---- what need not wait ---- */

static void do_at_once(scene *s) {
    if (!s->what->writes)
        feed(s->ends[1], letters);
    ck_assert_status(make_at_once(s), MTASK_OK);
    check_done(s);
    if (s->what->moves && s->what->writes)
        check_letters(s);
}

START_TEST(what_is_there_needs_no_wait) {
    play_solo(do_at_once);
}
END_TEST

static void find_not_ready(scene *s) {
    hold_up(s);
    ck_assert_status(make_at_once(s), MTASK_TIMEOUT);
    check_undone(s, MTASK_TIMEOUT);
}

START_TEST(without_time_to_wait_it_is_told_that_it_would_have_to) {
    play_solo(find_not_ready);
}
END_TEST

static void move_nothing(scene *s) {
    size_t count = 77;
    char byte = '?';
    struct iovec none[2] = {{NULL, 0}, {&byte, 0}};
    hold_up(s);
    if (s->what->make == make_read)
        ck_assert_status(mtask_io_read(s->fd, NULL, 0, &count, LONG), MTASK_OK);
    else if (s->what->make == make_readv)
        ck_assert_status(mtask_io_readv(s->fd, none, 2, &count, LONG), MTASK_OK);
    else if (s->what->make == make_write)
        ck_assert_status(mtask_io_write(s->fd, NULL, 0, &count, LONG), MTASK_OK);
    else if (s->what->make == make_writev)
        ck_assert_status(mtask_io_writev(s->fd, none, 2, &count, LONG), MTASK_OK);
    else if (s->what->make == make_sendfile)
        ck_assert_status(mtask_io_sendfile(s->fd, s->file, 0, 0, &count, LONG), MTASK_OK);
    else
        return;
    ck_assert_uint_eq(count, 0);
}

START_TEST(to_move_nothing_needs_no_wait) {
    play_solo(move_nothing);
}
END_TEST

static void *move_no_parts(void *arg) {
    int ends[2];
    size_t count = 77;
    open_pipe(ends);
    ck_assert_status(mtask_io_readv(ends[0], NULL, 0, &count, LONG), MTASK_OK);
    ck_assert_uint_eq(count, 0);
    count = 77;
    ck_assert_status(mtask_io_writev(ends[1], NULL, 0, &count, LONG), MTASK_OK);
    ck_assert_uint_eq(count, 0);
    end_fds(ends);
    return arg;
}

START_TEST(no_parts_are_no_bytes) {
    everywhere(move_no_parts, NULL);
}
END_TEST

static void ask_without_count(scene *s) {
    if (!s->what->writes)
        feed(s->ends[1], letters);
    if (s->what->make == make_read)
        ck_assert_status(mtask_io_read(s->fd, s->buffer, PIECE, NULL, LONG), MTASK_OK);
    else if (s->what->make == make_write)
        ck_assert_status(mtask_io_write(s->fd, letters, PIECE, NULL, LONG), MTASK_OK);
    else if (s->what->make == make_sendfile)
        ck_assert_status(mtask_io_sendfile(s->fd, s->file, 0, PIECE, NULL, LONG), MTASK_OK);
}

START_TEST(nobody_has_to_ask_how_many_bytes_were_moved) {
    play_solo(ask_without_count);
}
END_TEST

/* ---- the end of the input ---- */

static void *read_to_the_end(void *arg) {
    const kind *of = (const kind *)arg;
    char bytes[4] = "";
    struct iovec part = {bytes, sizeof bytes};
    size_t count = 77;
    int ends[2];
    of->open(ends);
    feed(ends[1], "last");
    end_one(of, &ends[1]);
    ck_assert_status(mtask_io_read(ends[0], bytes, 3, &count, LONG), MTASK_OK);
    ck_assert_uint_eq(count, 3);
    ck_assert_status(mtask_io_readv(ends[0], &part, 1, &count, LONG), MTASK_OK);
    ck_assert_uint_eq(count, 1);
    for (int i = 0; i < 3; i++) {
        ck_assert_status(mtask_io_wait(ends[0], MTASK_IO_READ, LONG), MTASK_OK);
        count = 77;
        ck_assert_status(mtask_io_read(ends[0], bytes, 3, &count, LONG), MTASK_CLOSED);
        ck_assert_uint_eq(count, 0);
        count = 77;
        ck_assert_status(mtask_io_readv(ends[0], &part, 1, &count, MTASK_NOWAIT), MTASK_CLOSED);
        ck_assert_uint_eq(count, 0);
        ck_assert_status(mtask_io_read(ends[0], bytes, 0, &count, LONG), MTASK_OK);
    }
    end_one(of, &ends[0]);
    return arg;
}

START_TEST(the_end_of_the_input_stays) {
    each_kind(read_to_the_end);
}
END_TEST

static void *hang_up(void *arg) {
    scene *s = (scene *)arg;
    await_call(s);
    end_one(s->of, &s->ends[!s->what->writes]);
    return arg;
}

/* Whoever waits for something when the other end goes hears of it. */
static void hear_of_the_end(scene *s) {
    hold_up(s);
    play(s, hang_up);
    if (!s->what->moves)
        check_done(s);
    else if (!s->what->writes)
        check_undone(s, MTASK_CLOSED);
    else
        check_undone(s, MTASK_BROKEN);
    if (s->what->moves && s->what->writes)
        testing_check(s->error == EPIPE || s->error == ECONNRESET);
}

START_TEST(who_waits_hears_that_the_other_end_is_gone) {
    play_all(hear_of_the_end);
}
END_TEST

/* ---- what cannot be ---- */

static void wait_negative_time(scene *s) {
    if (!s->what->writes)
        feed(s->ends[1], letters);
    s->timeout = -1;
    (void)make_call_now(s);
    ck_assert_status(s->status, MTASK_INVALID);
    s->timeout = INT64_MIN;
    (void)make_call_now(s);
    ck_assert_status(s->status, MTASK_INVALID);
    if (s->what->writes)
        ck_assert_uint_eq(drain_fd(s->ends[0]), 0);
    else
        check_fed(s->ends[0], letters);
}

START_TEST(negative_timeouts_are_refused) {
    play_solo(wait_negative_time);
}
END_TEST

/* Makes the call on `fd`, which must be refused with this error. */
static void check_refused(scene *s, int fd, int error) {
    int before = s->fd;
    s->fd = fd;
    for (int i = 0; i < 2; i++) {
        s->timeout = i == 0 ? LONG : MTASK_NOWAIT;
        (void)make_call_now(s);
        check_undone(s, MTASK_SYSTEM);
        ck_assert_int_eq(s->error, error);
    }
    s->fd = before;
}

static void use_closed_one(scene *s) {
    int used = s->fd;
    check_refused(s, 1000000, EBADF);
    end_one(s->of, &s->ends[s->what->writes]);
    check_refused(s, used, EBADF);
}

START_TEST(a_closed_descriptor_is_refused) {
    play_solo(use_closed_one);
}
END_TEST

/* One that was waited for before it was closed. */
static void use_closed_one_again(scene *s) {
    int used = s->fd;
    hold_up(s);
    s->timeout = MTASK_US(10);
    (void)make_call_now(s);
    check_undone(s, MTASK_TIMEOUT);
    end_one(s->of, &s->ends[s->what->writes]);
    check_refused(s, used, EBADF);
}

START_TEST(a_descriptor_that_was_waited_for_is_refused_once_closed) {
    play_solo(use_closed_one_again);
}
END_TEST

static void *misuse(void *arg) {
    struct iovec parts[1025];
    char bytes[4] = "";
    int ends[2];
    mtask_io_case none = {-1, 0, 0};
    open_pair(ends);
    ck_assert_status(mtask_io_wait(ends[0], 0, LONG), MTASK_INVALID);
    ck_assert_status(mtask_io_wait(ends[0], 4, LONG), MTASK_INVALID);
    ck_assert_status(mtask_io_wait(ends[0], MTASK_IO_WRITE | 8, LONG), MTASK_INVALID);
    none.fd = ends[0];
    ck_assert_status(mtask_io_select(&none, 1, LONG), MTASK_INVALID);
    for (size_t i = 0; i < 1025; i++)
        parts[i] = (struct iovec){bytes, 1};
    feed(ends[1], "abcd");
    ck_assert_status(mtask_io_readv(ends[0], parts, 1025, NULL, LONG), MTASK_INVALID);
    ck_assert_status(mtask_io_readv(ends[0], parts, -1, NULL, LONG), MTASK_INVALID);
    ck_assert_status(mtask_io_writev(ends[0], parts, 1025, NULL, LONG), MTASK_INVALID);
    ck_assert_status(mtask_io_writev(ends[0], parts, -1, NULL, LONG), MTASK_INVALID);
    ck_assert_uint_eq(drain_fd(ends[1]), 0);
    check_fed(ends[0], "abcd");
    end_fds(ends);
    return arg;
}

START_TEST(too_many_parts_and_unknown_events_are_refused) {
    everywhere(misuse, NULL);
}
END_TEST

static void *read_what_is_written(void *arg) {
    char bytes[4];
    size_t count = 77;
    int ends[2];
    plain_pipe(ends);
    errno = 0;
    ck_assert_status(mtask_io_read(ends[1], bytes, 4, &count, LONG), MTASK_SYSTEM);
    ck_assert_int_eq(errno, EBADF);
    ck_assert_uint_eq(count, 0);
    errno = 0;
    ck_assert_status(mtask_io_write(ends[0], bytes, 4, &count, LONG), MTASK_SYSTEM);
    ck_assert_int_eq(errno, EBADF);
    end_plain(ends);
    return arg;
}

START_TEST(the_wrong_end_of_a_pipe_is_refused) {
    everywhere(read_what_is_written, NULL);
}
END_TEST

/* ---- timeouts ---- */

static void run_out_of_time(scene *s) {
    int64_t start;
    hold_up(s);
    s->timeout = SHORT;
    start = mtask_now();
    (void)make_call_now(s);
    ck_assert_int_ge(mtask_now() - start, SHORT);
    check_undone(s, MTASK_TIMEOUT);
    let_go(s); /* it can be used */
    if (s->of->tcp && s->what->writes)
        ck_assert_status(mtask_io_wait(s->fd, MTASK_IO_WRITE, LONG), MTASK_OK);
    s->timeout = LONG;
    (void)make_call_now(s);
    check_done(s);
}

START_TEST(a_timeout_leaves_the_descriptor_as_it_is) {
    play_solo(run_out_of_time);
}
END_TEST

/* What has come since the last call is found by the next one, though nobody else had a turn. */
static void find_what_came(scene *s) {
    hold_up(s);
    s->timeout = MTASK_US(20);
    (void)make_call_now(s);
    check_undone(s, MTASK_TIMEOUT);
    let_go(s);
    for (int i = 0; s->of->tcp && polled(s->fd, POLLOUT) == 0 && i < 1000; i++)
        testing_pause(1); /* it is on its way */
    s->timeout = MTASK_NOWAIT;
    (void)make_call_now(s);
    check_done(s);
}

START_TEST(what_came_after_a_wait_needs_no_further_one) {
    play_solo(find_what_came);
}
END_TEST

/* ---- waits that end ---- */

static void *end_the_wait(void *arg) {
    scene *s = (scene *)arg;
    await_call(s);
    let_go(s);
    while (s->of->tcp && s->what->writes && !flow_has_ended(&s->flows[0])) {
        (void)drain_fd(s->ends[0]); /* some was still on its way */
        linger();
    }
    return arg;
}

static void wait_and_go_on(scene *s) {
    hold_up(s);
    play(s, end_the_wait);
    check_done(s);
    if (s->what->moves && s->what->writes && !s->of->tcp)
        check_letters(s);
}

START_TEST(a_call_waits_until_it_can_go_on) {
    play_all(wait_and_go_on);
}
END_TEST

/* Waits, and finds nothing of what came: waits on. */
static void *tease(void *arg) {
    scene *s = (scene *)arg;
    for (int i = 0; i < 3; i++) {
        await_call(s);
        if (s->what->writes) {
            take_out(s);
            hold_up(s);
        } else {
            feed(s->ends[1], letters);
            check_fed(s->ends[0], letters);
        }
    }
    return end_the_wait(arg);
}

static void wait_through_false_hopes(scene *s) {
    if (!s->what->moves || s->of->tcp || s->where != IN_TASKS)
        return; /* elsewhere it may be faster than its rival */
    hold_up(s);
    play(s, tease);
    check_done(s);
}

START_TEST(a_call_waits_on_if_others_were_faster) {
    play_all(wait_through_false_hopes);
}
END_TEST

static void *count_turns(void *arg) {
    scene *s = (scene *)arg;
    while (mtask_sleep(MTASK_US(100)) == MTASK_OK)
        __atomic_add_fetch(&s->turns, 1, __ATOMIC_RELAXED);
    return arg;
}

static void *call_among_others(void *arg) {
    ck_assert_status(mtask_go(count_turns, arg, NULL), MTASK_OK);
    take_turns();
    return make_call(arg);
}

static void *end_unparked_wait(void *arg) {
    scene *s = (scene *)arg;
    long turns;
    await_call(s);
    turns = __atomic_load_n(&s->turns, __ATOMIC_RELAXED);
    testing_pause(2);
    ck_assert_int_eq(__atomic_load_n(&s->turns, __ATOMIC_RELAXED), turns);
    return end_the_wait(arg);
}

START_TEST(a_call_that_must_not_park_blocks_the_loop) {
    for (long i = 0; i < CALLS; i++) {
        scene s;
        open_scene(&s, &calls[i], &kinds[i % KINDS]);
        s.how = NOT_PARKED;
        hold_up(&s);
        s.flows[0].fn = call_among_others;
        s.flows[1].fn = end_unparked_wait;
        s.flows[0].arg = s.flows[1].arg = &s;
        run_flows(s.flows, TASK_AND_THREAD);
        check_done(&s);
        close_scene(&s);
    }
}
END_TEST

static void run_out_of_time_unparked(scene *s) {
    int64_t start = mtask_now();
    s->how = NOT_PARKED;
    s->timeout = MTASK_US(300);
    hold_up(s);
    (void)make_call(s);
    ck_assert_int_ge(mtask_now() - start, MTASK_US(300));
    check_undone(s, MTASK_TIMEOUT);
    let_go(s);
    s->timeout = LONG;
    (void)make_call(s);
    check_done(s);
}

START_TEST(a_call_that_must_not_park_keeps_its_time) {
    play_solo(run_out_of_time_unparked);
}
END_TEST

/* ---- signals that interrupt ---- */

static void *call_in_thread(void *arg) {
    testing_member *self = (testing_member *)arg;
    return make_call(self->arg);
}

static void call_as_task_of_crowd(testing_member *self) {
    (void)in_loop(call_in_thread, self);
}

static void call_of_crowd(testing_member *self) {
    (void)call_in_thread(self);
}

START_TEST(a_signal_does_not_end_a_call) {
    testing_catch_signals();
    for (long i = 0; i < CALLS; i++) {
        testing_crowd crowd = {.count = 0};
        testing_member *member;
        scene s;
        open_scene(&s, &calls[i], &kinds[i % KINDS]);
        hold_up(&s);
        member = testing_crowd_add(&crowd, i % 2 ? call_as_task_of_crowd : call_of_crowd, &s);
        for (int times = 0; times < 2; times++) {
            testing_await_asleep(member);
            testing_check(pthread_kill(member->thread, SIGUSR1) == 0);
        }
        testing_await_asleep(member);
        let_go(&s);
        if (s.of->tcp && s.what->writes)
            while (!testing_has_finished(member))
                (void)drain_fd(s.ends[0]);
        testing_crowd_join(&crowd);
        check_done(&s);
        close_scene(&s);
    }
}
END_TEST

/* ---- cancellation ---- */

static void check_canceled(scene *s) {
    check_undone(s, MTASK_CANCELED);
    for (int i = 0; i < 2; i++) { /* it stays */
        (void)make_call_now(s);
        check_undone(s, MTASK_CANCELED);
    }
}

static void *call_until_canceled(void *arg) {
    scene *s = (scene *)arg;
    (void)make_call_now(s);
    check_canceled(s);
    let_go(s);
    if (s->of->tcp && s->what->writes)
        return arg; /* it may take a while */
    (void)make_call_now(s);
    check_done(s); /* without a wait, it does not look */
    return arg;
}

/* Calls fn(&scene) for each call and each kind of descriptor, in a task. */
static void *cancel_each_call(void *arg) {
    for (long i = 0; i < CALLS; i++)
        for (int n = 0; n < KINDS; n++) {
            mtask_future *future;
            scene s;
            open_scene(&s, &calls[i], &kinds[n]);
            hold_up(&s);
            future = go(call_until_canceled, &s);
            take_turns();
            ck_assert_status(mtask_future_cancel(future), MTASK_OK);
            (void)take(future);
            (void)drain_fd(s.ends[0]);
            if (!calls[i].writes)
                feed(s.ends[1], letters);
            (void)make_call_now(&s); /* for others it is as it was */
            check_done(&s);
            close_scene(&s);
        }
    return arg;
}

START_TEST(cancellation_ends_a_call_and_stays) {
    (void)in_loop(cancel_each_call, NULL);
}
END_TEST

static void *call_under_limit(void *arg) {
    scene *s = (scene *)arg;
    (void)make_call_now(s);
    check_canceled(s);
    return arg;
}

static void *limit_each_call(void *arg) {
    for (long i = 0; i < CALLS; i++)
        for (int n = 0; n < KINDS; n++) {
            int64_t start;
            scene s;
            open_scene(&s, &calls[i], &kinds[n]);
            hold_up(&s);
            start = mtask_now();
            ck_assert_status(mtask_with_timeout(MTASK_US(200), call_under_limit, &s, NULL),
                             MTASK_TIMEOUT);
            ck_assert_int_ge(mtask_now() - start, MTASK_US(200));
            let_go(&s);
            (void)make_call_now(&s); /* the limit is over */
            check_done(&s);
            close_scene(&s);
        }
    return arg;
}

START_TEST(a_limit_ends_a_call) {
    (void)in_loop(limit_each_call, NULL);
}
END_TEST

static void *call_in_shield(void *arg) {
    scene *s = (scene *)arg;
    mtask_shield_begin();
    (void)make_call_now(s);
    mtask_shield_end();
    check_done(s);
    ck_assert_status(mtask_yield(), MTASK_CANCELED);
    return arg;
}

static void *cancel_shielded_calls(void *arg) {
    for (long i = 0; i < CALLS; i++) {
        mtask_future *future;
        scene s;
        open_scene(&s, &calls[i], &kinds[i % 2]);
        hold_up(&s);
        future = go(call_in_shield, &s);
        take_turns();
        ck_assert_status(mtask_future_cancel(future), MTASK_OK);
        take_turns();
        ck_assert(!mtask_future_done(future));
        let_go(&s);
        (void)take(future);
        close_scene(&s);
    }
    return arg;
}

START_TEST(a_shield_holds_cancellation_off) {
    (void)in_loop(cancel_shielded_calls, NULL);
}
END_TEST

static void *cancel_as_it_becomes_ready(void *arg) {
    for (long i = 0; i < CALLS; i++) {
        mtask_future *future;
        scene s;
        open_scene(&s, &calls[i], &kinds[i % 2]);
        hold_up(&s);
        future = go(make_call, &s);
        take_turns();
        let_go(&s);
        ck_assert_status(mtask_future_cancel(future), MTASK_OK);
        (void)take(future);
        if (s.status == MTASK_CANCELED) /* and then nothing is lost */
            check_undone(&s, MTASK_CANCELED);
        else
            check_done(&s);
        if (s.status == MTASK_CANCELED && calls[i].moves && !calls[i].writes)
            check_fed(s.ends[0], letters);
        close_scene(&s);
    }
    return arg;
}

START_TEST(a_call_that_is_cancelled_as_it_becomes_ready_loses_nothing) {
    (void)in_loop(cancel_as_it_becomes_ready, NULL);
}
END_TEST

/* ---- where nobody may wait ---- */

/* Posts fn(arg) to the loop of the calling task, and lets the loop run until it has been called. */
static void post_and_await(void (*fn)(void *arg), void *arg) {
    mtask_loop_call post = {.fn = fn, .arg = arg};
    ck_assert_status(mtask_loop_post(mtask_loop_current(), &post), MTASK_OK);
    while (__atomic_load_n(&post.posted, __ATOMIC_ACQUIRE) != 0)
        take_turns(); /* it lies on this stack */
}

static void call_in_post(void *arg) {
    scene *s = (scene *)arg;
    (void)make_call_now(s);
}

static void *call_on_the_loop_itself(void *arg) {
    for (long i = 0; i < CALLS; i++)
        for (int n = 0; n < KINDS; n++) {
            scene s;
            open_scene(&s, &calls[i], &kinds[n]);
            hold_up(&s);
            post_and_await(call_in_post, &s);
            check_undone(&s, MTASK_DEADLOCK);
            s.timeout = MTASK_NOWAIT;
            post_and_await(call_in_post, &s);
            check_undone(&s, MTASK_TIMEOUT);
            let_go(&s);
            s.timeout = LONG;
            if (kinds[n].tcp) /* some is on its way */
                ck_assert_status(mtask_io_wait(s.fd, calls[i].writes ? 2 : 1, LONG), MTASK_OK);
            post_and_await(call_in_post, &s);
            check_done(&s);
            close_scene(&s);
        }
    return arg;
}

START_TEST(a_function_that_was_posted_must_not_wait) {
    (void)in_loop(call_on_the_loop_itself, NULL);
}
END_TEST

/* ---- what is told of who waits ---- */

static void *wait_to_read(void *arg) {
    ck_assert_status(mtask_io_wait((int)(long)arg, MTASK_IO_READ, LONG), MTASK_CANCELED);
    return arg;
}

/* What a dump says of the loop; `text` has room for `size` bytes. */
static void dump_of(mtask_loop *loop, char *text, size_t size) {
    int ends[2];
    ssize_t count;
    testing_check(pipe(ends) == 0);
    ck_assert_status(mtask_loop_dump(loop, ends[1]), MTASK_OK);
    count = read(ends[0], text, size - 1);
    testing_check(count > 0);
    text[count] = '\0';
    close(ends[0]);
    close(ends[1]);
}

static void *look_at_who_waits(void *arg) {
    mtask_task_info infos[2];
    char text[1024], expected[48];
    int ends[2];
    mtask_future *future;
    size_t count = 0;
    ck_assert_status(mtask_io_pair(ends), MTASK_OK);
    future = go(wait_to_read, (void *)(long)ends[0]);
    (void)mtask_yield();
    ck_assert_status(mtask_loop_tasks(mtask_loop_current(), infos, 2, &count), MTASK_OK);
    ck_assert_uint_eq(count, 2);
    ck_assert_int_eq(infos[0].fd, -1);
    ck_assert_int_eq(infos[1].fd, ends[0]);
    ck_assert_str_eq(infos[1].state, "waiting");
    ck_assert_ptr_null(infos[1].word);
    dump_of(mtask_loop_current(), text, sizeof text);
    snprintf(expected, sizeof expected, "waiting for descriptor %d for ", ends[0]);
    ck_assert_msg(strstr(text, expected) != NULL, "%s", text);
    ck_assert_status(mtask_future_cancel(future), MTASK_OK);
    (void)take(future);
    ck_assert_status(mtask_io_close(ends[0]), MTASK_OK);
    ck_assert_status(mtask_io_close(ends[1]), MTASK_OK);
    return arg;
}

START_TEST(a_loop_tells_which_descriptor_a_task_waits_for) {
    (void)in_loop(look_at_who_waits, NULL);
}
END_TEST

/* ---- dead-locks: who waits for a descriptor waits for something from outside ---- */

/* Lets go of the call when the loop sleeps. */
static void let_go_from_outside(testing_member *self) {
    scene *s = (scene *)self->arg;
    (void)end_the_wait(s);
}

static void *call_alone(void *arg) {
    scene *s = (scene *)arg;
    mtask_event never = {0};
    (void)flow_main(&s->flows[0]);
    ck_assert_status(mtask_event_wait(&never, MTASK_FOREVER), MTASK_DEADLOCK);
    return arg;
}

START_TEST(who_waits_for_a_descriptor_is_in_no_dead_lock) {
    for (long i = 0; i < CALLS; i++) {
        mtask_loop_desc desc = {.no_external_wakers = true};
        testing_crowd crowd = {.count = 0};
        scene s;
        open_scene(&s, &calls[i], &kinds[i % KINDS]);
        hold_up(&s);
        s.timeout = MTASK_FOREVER;
        s.flows[0].fn = make_call;
        s.flows[0].arg = &s;
        (void)testing_crowd_add(&crowd, let_go_from_outside, &s);
        ck_assert_status(mtask_loop_run_ex(call_alone, &s, NULL, &desc), MTASK_DEADLOCK);
        check_done(&s);
        testing_crowd_join(&crowd);
        close_scene(&s);
    }
}
END_TEST

/* ---- a loop inside another one ---- */

static mtask_status step_now(mtask_loop *loop) {
    return mtask_loop_step(loop, MTASK_NOWAIT);
}

/* Plays the host: steps the loop whenever its descriptor says so, until all tasks have ended. */
static void host_all(mtask_loop *loop, int fd) {
    while (step_now(loop) != MTASK_DONE) {
        struct pollfd one = {fd, POLLIN, 0};
        testing_check(poll(&one, 1, -1) == 1 || errno == EINTR);
    }
}

START_TEST(the_descriptor_of_a_loop_tells_what_its_tasks_wait_for) {
    for (long i = 0; i < CALLS; i++) {
        mtask_loop *loop = NULL;
        mtask_future *future;
        int fd = -1;
        scene s;
        ck_assert_status(mtask_loop_create(&loop, NULL), MTASK_OK);
        ck_assert_status(mtask_loop_fd(loop, &fd), MTASK_OK);
        open_scene(&s, &calls[i], &kinds[i % KINDS]);
        hold_up(&s);
        s.timeout = MTASK_FOREVER;
        future = go(make_call, &s);
        while (step_now(loop) != MTASK_TIMEOUT) {
        }
        ck_assert_int_eq(polled(fd, POLLIN), 0);
        ck_assert_int_eq(mtask_loop_next(loop), MTASK_FOREVER);
        let_go(&s);
        host_all(loop, fd);
        check_done(&s);
        (void)take(future);
        ck_assert_status(mtask_loop_destroy(loop), MTASK_OK);
        close_scene(&s);
    }
}
END_TEST

/* ---- closing ---- */

static void *close_under_call(void *arg) {
    scene *s = (scene *)arg;
    await_call(s);
    end_fd(s->fd);
    s->ends[s->what->writes] = -1;
    return arg;
}

/* Also of descriptors that are not mtask's own, if they are closed by its call. */
static void be_closed(scene *s) {
    hold_up(s);
    play(s, close_under_call);
    check_undone(s, MTASK_BROKEN);
    ck_assert_int_eq(s->error, EBADF);
}

START_TEST(who_waits_hears_that_it_is_closed) {
    play_all(be_closed);
}
END_TEST

/* Tasks that must not park wait as their thread. */
START_TEST(who_waits_without_parking_hears_that_it_is_closed) {
    for (long i = 0; i < CALLS; i += 2) {
        scene s;
        open_scene(&s, &calls[i], &kinds[i % KINDS]);
        s.where = TASK_AND_THREAD;
        s.how = NOT_PARKED;
        be_closed(&s);
        close_scene(&s);
    }
}
END_TEST

static void close_in_post(void *arg) {
    scene *s = (scene *)arg;
    end_fd(s->fd);
    s->ends[s->what->writes] = -1;
}

static void *close_from_the_loop_itself(void *arg) {
    for (long i = 0; i < CALLS; i++) {
        mtask_future *future;
        scene s;
        open_scene(&s, &calls[i], &kinds[i % KINDS]);
        hold_up(&s);
        future = go(make_call, &s);
        take_turns();
        post_and_await(close_in_post, &s);
        (void)take(future);
        check_undone(&s, MTASK_BROKEN);
        close_scene(&s);
    }
    return arg;
}

START_TEST(a_function_that_was_posted_may_close) {
    (void)in_loop(close_from_the_loop_itself, NULL);
}
END_TEST

static void *close_twice(void *arg) {
    int ends[2], file = open_file(10);
    open_pair(ends);
    end_fds(ends);
    errno = 0;
    ck_assert_status(mtask_io_close(ends[0]), MTASK_SYSTEM);
    ck_assert_int_eq(errno, EBADF);
    plain_pipe(ends);
    end_fds(ends);
    errno = 0;
    ck_assert_status(mtask_io_close(ends[1]), MTASK_SYSTEM);
    ck_assert_int_eq(errno, EBADF);
    ck_assert_status(mtask_io_close(1000000), MTASK_SYSTEM);
    end_fd(file);
    ck_assert_int_eq(fcntl(file, F_GETFD), -1);
    return arg;
}

START_TEST(any_descriptor_can_be_closed_once) {
    everywhere(close_twice, NULL);
}
END_TEST

/* Several waiters of one descriptor: tasks of two loops, and threads. */
typedef struct crowded {
    int fd;
    unsigned events;
    int64_t timeout;
    mtask_word waiting;
    mtask_word woken; /* with what the test expects */
    mtask_status expected;
    char got[16]; /* what they have read */
} crowded;

static void *wait_in_crowd(void *arg) {
    crowded *self = (crowded *)arg;
    mtask_word_add(&self->waiting, 1);
    ck_assert_status(mtask_io_wait(self->fd, self->events, self->timeout), self->expected);
    if (self->expected == MTASK_BROKEN)
        ck_assert_int_eq(errno, EBADF);
    mtask_word_add(&self->woken, 1);
    return arg;
}

static void *read_in_crowd(void *arg) {
    crowded *self = (crowded *)arg;
    char byte = 0;
    mtask_word_add(&self->waiting, 1);
    ck_assert_status(mtask_io_read(self->fd, &byte, 1, NULL, self->timeout), self->expected);
    self->got[mtask_word_add(&self->woken, 1)] = byte;
    return arg;
}

typedef struct crowd_part {
    mtask_fn fn;
    crowded *arg;
    bool in_loop;
} crowd_part;

static void *go_three(void *arg) {
    crowd_part *part = (crowd_part *)arg;
    mtask_future *futures[3];
    for (int i = 0; i < 3; i++)
        futures[i] = go(part->fn, part->arg);
    for (int i = 0; i < 3; i++)
        (void)take(futures[i]);
    return arg;
}

static void wait_as_part(testing_member *self) {
    const crowd_part *part = (const crowd_part *)self->arg;
    if (part->in_loop)
        (void)in_loop(go_three, self->arg);
    else
        (void)part->fn(part->arg);
}

enum { IN_CROWD = 8 }; /* three tasks on each of two loops, two threads */

/* Has all of them wait, in a crowd of four threads. */
static void gather_crowd(testing_crowd *crowd, crowd_part parts[2], mtask_fn fn, crowded *shared) {
    crowd->count = 0;
    for (int i = 0; i < 2; i++)
        parts[i] = (crowd_part){fn, shared, i == 0};
    for (int i = 0; i < 4; i++)
        (void)testing_crowd_add(crowd, wait_as_part, &parts[i / 2]);
    while (mtask_word_load(&shared->waiting) < IN_CROWD)
        testing_pause(1);
    testing_crowd_await_asleep(crowd, 4);
}

static void wake_crowd(const kind *of, bool by_close) {
    crowd_part parts[2];
    testing_crowd crowd;
    int ends[2];
    crowded shared = {.events = MTASK_IO_READ, .timeout = LONG};
    of->open(ends);
    shared.fd = ends[0];
    shared.expected = by_close ? MTASK_BROKEN : MTASK_OK;
    gather_crowd(&crowd, parts, wait_in_crowd, &shared);
    ck_assert_int_eq(mtask_word_load(&shared.woken), 0);
    if (by_close) {
        end_fd(ends[0]);
        ends[0] = -1;
    } else {
        feed(ends[1], "x");
    }
    testing_crowd_join(&crowd);
    ck_assert_int_eq(mtask_word_load(&shared.woken), IN_CROWD);
    end_one(of, &ends[0]);
    end_one(of, &ends[1]);
}

START_TEST(all_who_wait_hear_that_it_is_closed) {
    for (int i = 0; i < KINDS; i++)
        wake_crowd(&kinds[i], true);
}
END_TEST

/* ---- several who wait for one ---- */

START_TEST(all_who_wait_hear_that_it_is_ready) {
    for (int i = 0; i < KINDS; i++)
        wake_crowd(&kinds[i], false);
}
END_TEST

/* Who reads what: each byte goes to one of them, and none is forgotten. Those of which mtask does
   not know must not block here: several that find them ready would read, and one of them block. */
static void share_bytes(const kind *of) {
    static const char bytes[] = "ABCDEFGH";
    crowd_part parts[2];
    testing_crowd crowd;
    int ends[2], seen = 0;
    crowded shared = {.timeout = LONG, .expected = MTASK_OK};
    of->open(ends);
    shared.fd = ends[0];
    gather_crowd(&crowd, parts, read_in_crowd, &shared);
    for (int i = 0; i < IN_CROWD; i++) {
        testing_check(write(ends[1], &bytes[i], 1) == 1);
        while (i % 3 == 0 && (int)mtask_word_load(&shared.woken) <= i)
            sched_yield();
    }
    testing_crowd_join(&crowd);
    for (int i = 0; i < IN_CROWD; i++)
        seen |= 1 << (shared.got[i] - 'A');
    ck_assert_int_eq(seen, 255);
    end_one(of, &ends[0]);
    end_one(of, &ends[1]);
}

START_TEST(several_readers_share_what_comes) {
    for (int i = 0; i < KINDS; i++)
        if (kinds[i].own || strncmp(kinds[i].name, "quiet", 5) == 0)
            share_bytes(&kinds[i]);
}
END_TEST

static void *share_in_one_loop(void *arg) {
    const kind *of = (const kind *)arg;
    crowded shared = {.timeout = LONG, .expected = MTASK_OK};
    mtask_future *futures[3];
    int ends[2];
    of->open(ends);
    shared.fd = ends[0];
    for (int i = 0; i < 3; i++)
        futures[i] = go(read_in_crowd, &shared);
    take_turns();
    for (mtask_word i = 1; i <= 3; i++) {
        feed(ends[1], "x");
        while (mtask_word_load(&shared.woken) < i)
            linger();
        take_turns();
        ck_assert_int_eq(mtask_word_load(&shared.woken), i);
    }
    for (int i = 0; i < 3; i++)
        (void)take(futures[i]);
    end_one(of, &ends[0]);
    end_one(of, &ends[1]);
    return arg;
}

START_TEST(a_byte_satisfies_one_of_the_readers_of_a_loop) {
    for (int i = 0; i < KINDS; i++)
        (void)in_loop(share_in_one_loop, (void *)&kinds[i]);
}
END_TEST

/* One waits to read and one to write, of the same descriptor. */
typedef struct duplex {
    scene *s;
    int other;
    mtask_word read, written;
    flow flows[2];
} duplex;

static void *read_one_way(void *arg) {
    duplex *self = (duplex *)arg;
    char bytes[PIECE];
    size_t count = 0;
    ck_assert_status(mtask_io_read(self->s->fd, bytes, PIECE, &count, LONG), MTASK_OK);
    ck_assert_uint_eq(count, 4);
    ck_assert_mem_eq(bytes, "abcd", 4);
    mtask_word_store(&self->read, 1);
    return arg;
}

static void *write_other_way(void *arg) {
    duplex *self = (duplex *)arg;
    ck_assert_status(mtask_io_write(self->s->fd, letters, PIECE, NULL, LONG), MTASK_OK);
    mtask_word_store(&self->written, 1);
    return arg;
}

/* Wakes first one, then the other one. */
static void wake_each(testing_member *member) {
    duplex *self = (duplex *)member->arg;
    await_flow(&self->flows[0]);
    await_flow(&self->flows[1]);
    testing_check(!flow_has_ended(&self->flows[0]) && !flow_has_ended(&self->flows[1]));
    if (self->s->where % 2 == 0)
        feed(self->other, "abcd");
    while (self->s->where % 2 == 0 && !flow_has_ended(&self->flows[0]))
        linger();
    if (!self->s->of->tcp) /* where an answer may make room */
        testing_check(!flow_has_ended(&self->flows[1]));
    while (!flow_has_ended(&self->flows[1])) {
        (void)drain_fd(self->other);
        linger();
    }
    if (self->s->where % 2 != 0) {
        testing_check(!flow_has_ended(&self->flows[0]));
        feed(self->other, "abcd");
    }
}

START_TEST(one_may_read_while_another_writes) {
    for (int i = 0; i < KINDS; i++)
        for (int where = 0; kinds[i].socket && where < PLACES; where++) {
            if (where != IN_TASKS && i % 4 + 1 != where)
                continue;
            testing_crowd crowd = {.count = 0};
            duplex both;
            scene s;
            open_scene(&s, &calls[COUNT_OF(calls) - 2], &kinds[i]);
            s.where = (place)where;
            hold_up(&s);
            memset(&both, 0, sizeof both);
            both.s = &s;
            both.other = s.ends[0];
            both.flows[0] = (flow){.fn = read_one_way, .arg = &both};
            both.flows[1] = (flow){.fn = write_other_way, .arg = &both};
            (void)testing_crowd_add(&crowd, wake_each, &both);
            run_flows(both.flows, s.where);
            testing_crowd_join(&crowd);
            close_scene(&s);
        }
}
END_TEST

/* ---- numbers that are used again ---- */

typedef struct reuse {
    const kind *old;
    const kind *next;
    int ends[2];
    int rounds;
    flow flows[2];
    mtask_word waits;   /* in which round, from 1, the waiter goes to wait */
    mtask_word told;    /* in which it has heard */
    mtask_word renewed; /* in which the descriptor has become another one for good */
} reuse;

/* Waits for what is going to be closed meanwhile. */
static void hear_it_close(int fd, bool reads) {
    char byte;
    if (reads)
        ck_assert_status(mtask_io_read(fd, &byte, 1, NULL, LONG), MTASK_BROKEN);
    else
        ck_assert_status(mtask_io_wait(fd, MTASK_IO_READ, LONG), MTASK_BROKEN);
    ck_assert_int_eq(errno, EBADF);
}

static void *wait_for_the_old(void *arg) {
    reuse *self = (reuse *)arg;
    for (mtask_word i = 1; i <= (mtask_word)self->rounds; i++) {
        await_value(&self->renewed, i - 1);
        mtask_word_store(&self->waits, i);
        hear_it_close(self->ends[0], i % 2 == 0);
        mtask_word_store(&self->told, i);
    }
    return arg;
}

/* The descriptor with the old one's number works, by itself. */
static void use_new(const int ends[2]) {
    char byte = 0;
    ck_assert_status(mtask_io_wait(ends[0], MTASK_IO_READ, MTASK_NOWAIT), MTASK_TIMEOUT);
    ck_assert_status(mtask_io_wait(ends[0], MTASK_IO_READ, MTASK_US(10)), MTASK_TIMEOUT);
    ck_assert_status(mtask_io_read(ends[0], &byte, 1, NULL, MTASK_US(10)), MTASK_TIMEOUT);
    feed(ends[1], "x");
    ck_assert_status(mtask_io_wait(ends[0], MTASK_IO_READ, LONG), MTASK_OK);
    ck_assert_status(mtask_io_read(ends[0], &byte, 1, NULL, LONG), MTASK_OK);
    ck_assert_int_eq(byte, 'x');
}

/* Closes both ends, mtask knowing of the first, and has others take their numbers. */
static void renew(int ends[2], const kind *old, const kind *next) {
    int numbers[2] = {ends[0], ends[1]};
    end_fd(ends[0]);
    end_one(old, &ends[1]);
    next->open(ends);
    testing_check(ends[0] == numbers[0] && ends[1] == numbers[1]);
}

static void *close_and_reuse(void *arg) {
    reuse *self = (reuse *)arg;
    for (mtask_word i = 1; i <= (mtask_word)self->rounds; i++) {
        const kind *old = self->old;
        await_value(&self->waits, i);
        await_flow(&self->flows[0]);
        renew(self->ends, old, self->next);
        use_new(self->ends);
        await_value(&self->told, i);
        use_new(self->ends);
        self->old = self->next;
        self->next = old;
        mtask_word_store(&self->renewed, i);
    }
    return arg;
}

/* Those that are made in the order of their ends, so that they take the numbers of others. */
static const kind *const orderly[] = {&kinds[0], &kinds[1], &kinds[3],
                                      &kinds[4], &kinds[6], &kinds[7]};

enum { ORDERLY = sizeof orderly / sizeof orderly[0] };

START_TEST(a_number_can_be_used_again_at_once) {
    for (int where = 0; where < PLACES; where++)
        for (int i = 0; i < ORDERLY; i++) {
            if (!is_played(i, where))
                continue;
            reuse self = {.rounds = 2};
            self.old = orderly[i];
            self.next = orderly[(i + 1 + where) % ORDERLY];
            self.old->open(self.ends);
            self.flows[0] = (flow){.fn = wait_for_the_old, .arg = &self};
            self.flows[1] = (flow){.fn = close_and_reuse, .arg = &self};
            run_flows(self.flows, (place)where);
            end_one(self.old, &self.ends[0]);
            end_one(self.old, &self.ends[1]);
        }
}
END_TEST

/* One of a few tasks that wait for the same descriptor. */
static void *hear_it_close_or_end(void *arg) {
    hear_it_close(*(int *)arg, true);
    return arg;
}

static void *reuse_many_times(void *arg) {
    testing_random random = testing_random_make(testing_seed(), 0);
    const kind *of = orderly[0];
    int ends[2];
    of->open(ends);
    for (long left = testing_scale(200); left > 0; left--) {
        const kind *next = orderly[testing_below(&random, ORDERLY)];
        mtask_future *futures[3];
        int fd = ends[0], count = (int)testing_below(&random, 4);
        for (int i = 0; i < count; i++)
            futures[i] = go(hear_it_close_or_end, &fd);
        take_turns();
        if (testing_below(&random, 2) == 0)
            ck_assert_status(mtask_io_wait(fd, MTASK_IO_READ, MTASK_NOWAIT), MTASK_TIMEOUT);
        renew(ends, of, next);
        of = next;
        if (testing_below(&random, 2) == 0)
            use_new(ends);
        for (int i = 0; i < count; i++)
            (void)take(futures[i]);
        use_new(ends);
    }
    end_one(of, &ends[0]);
    end_one(of, &ends[1]);
    return arg;
}

START_TEST(numbers_are_used_again_and_again) {
    (void)in_loop(reuse_many_times, NULL);
}
END_TEST

/* Descriptors of others: closed without mtask being told, when nobody waits. */
static void *close_behind_its_back(void *arg) {
    testing_random random = testing_random_make(testing_seed(), 1);
    for (long left = testing_scale(100); left > 0; left--) {
        const kind *of = orderly[2 + testing_below(&random, 4)];
        int ends[2];
        of->open(ends);
        use_new(ends);
        end_plain(ends);
    }
    return arg;
}

START_TEST(descriptors_of_others_are_closed_as_one_likes) {
    everywhere(close_behind_its_back, NULL);
}
END_TEST

/* A copy keeps the old pipe alive when its number has become another one's: what happens to the
   pipe must not be taken for what happens to that. */
static void *outlive_its_number(void *arg) {
    const kind *of = (const kind *)arg;
    char byte = 0;
    for (int i = 0; i < ORDERLY; i++) {
        int ends[2], next[2], copy;
        of->open(ends);
        ck_assert_status(mtask_io_wait(ends[0], MTASK_IO_READ, MTASK_US(20)), MTASK_TIMEOUT);
        copy = dup(ends[0]);
        end_one(of, &ends[0]);
        orderly[i]->open(next); /* its first end takes the number */
        ck_assert_status(mtask_io_wait(next[0], MTASK_IO_READ, MTASK_US(20)), MTASK_TIMEOUT);
        feed(ends[1], "y");
        ck_assert_status(mtask_io_wait(next[0], MTASK_IO_READ, MTASK_US(500)), MTASK_TIMEOUT);
        ck_assert_status(mtask_io_read(next[0], &byte, 1, NULL, MTASK_US(20)), MTASK_TIMEOUT);
        feed(next[1], "x");
        ck_assert_status(mtask_io_read(next[0], &byte, 1, NULL, LONG), MTASK_OK);
        ck_assert_int_eq(byte, 'x');
        ck_assert_status(mtask_io_read(copy, &byte, 1, NULL, LONG), MTASK_OK);
        ck_assert_int_eq(byte, 'y');
        testing_check(close(copy) == 0);
        end_one(of, &ends[1]);
        end_one(orderly[i], &next[0]);
        end_one(orderly[i], &next[1]);
    }
    return arg;
}

START_TEST(a_number_tells_nothing_of_who_had_it_before) {
    for (int i = 0; i < ORDERLY; i++)
        everywhere(outlive_its_number, (void *)orderly[i]);
}
END_TEST

static void *wait_for_byte(void *arg) {
    char byte = 0;
    ck_assert_status(mtask_io_wait(*(int *)arg, MTASK_IO_READ, LONG), MTASK_OK);
    ck_assert_status(mtask_io_read(*(int *)arg, &byte, 1, NULL, LONG), MTASK_OK);
    return arg;
}

/* A descriptor and its copy are waited for side by side. */
static void *wait_for_copies(void *arg) {
    const kind *of = (const kind *)arg;
    mtask_future *first, *second;
    int ends[2], copy;
    of->open(ends);
    copy = dup(ends[0]);
    first = go(wait_for_byte, &ends[0]);
    second = go(wait_for_byte, &copy);
    take_turns();
    feed(ends[1], "xy");
    (void)take(first);
    (void)take(second);
    second = go(wait_for_byte, &copy);
    take_turns();
    end_one(of, &ends[0]); /* the copy stays */
    feed(ends[1], "z");
    (void)take(second);
    testing_check(close(copy) == 0);
    end_one(of, &ends[1]);
    return arg;
}

START_TEST(a_copy_is_a_descriptor_of_its_own) {
    for (int i = 0; i < KINDS; i++)
        if (kinds[i].own || kinds[i].name[0] == 'q')
            (void)in_loop(wait_for_copies, (void *)&kinds[i]);
}
END_TEST

/* Both become ready at once; who comes first closes the other one and has its number used again. */
typedef struct rival {
    int *ends; /* its own pipe */
    int *other;
    bool *decided;
    mtask_status status;
} rival;

static void *close_the_rival(void *arg) {
    rival *self = (rival *)arg;
    self->status = mtask_io_wait(self->ends[0], MTASK_IO_READ, LONG);
    if (*self->decided)
        return arg;
    ck_assert_status(self->status, MTASK_OK);
    *self->decided = true;
    renew(self->other, &kinds[0], &kinds[0]);
    use_new(self->other);
    return arg;
}

static void *play_rivals(void *arg) {
    for (long i = testing_scale(100); i > 0; i--) {
        int ends[2][2];
        bool decided = false;
        rival rivals[2] = {{ends[0], ends[1], &decided, MTASK_INVALID},
                           {ends[1], ends[0], &decided, MTASK_INVALID}};
        mtask_future *futures[2];
        for (int n = 0; n < 2; n++) {
            open_pipe(ends[n]);
            futures[n] = go(close_the_rival, &rivals[n]);
        }
        take_turns();
        feed(ends[0][1], "a");
        feed(ends[1][1], "b");
        (void)take(futures[0]);
        (void)take(futures[1]);
        for (int n = 0; n < 2; n++)
            testing_check(rivals[n].status == MTASK_OK || rivals[n].status == MTASK_BROKEN);
        end_fds(ends[0]);
        end_fds(ends[1]);
    }
    return arg;
}

START_TEST(what_comes_together_is_told_to_those_who_still_wait) {
    (void)in_loop(play_rivals, NULL);
}
END_TEST

/* The same of two that read: the slower one must not read from what has the number now. */
static void *read_or_be_closed(void *arg) {
    rival *self = (rival *)arg;
    char byte = 0;
    self->status = mtask_io_read(self->ends[0], &byte, 1, NULL, LONG);
    if (*self->decided)
        return arg;
    ck_assert_status(self->status, MTASK_OK);
    *self->decided = true;
    renew(self->other, &kinds[0], &kinds[0]);
    feed(self->other[1], "z");
    return arg;
}

static void *play_readers(void *arg) {
    for (int i = 0; i < 10; i++) {
        int ends[2][2], broken = 0;
        bool decided = false;
        rival rivals[2] = {{ends[0], ends[1], &decided, MTASK_INVALID},
                           {ends[1], ends[0], &decided, MTASK_INVALID}};
        mtask_future *futures[2];
        for (int n = 0; n < 2; n++) {
            open_pipe(ends[n]);
            futures[n] = go(read_or_be_closed, &rivals[n]);
        }
        take_turns();
        feed(ends[0][1], "a");
        feed(ends[1][1], "b");
        (void)take(futures[0]);
        (void)take(futures[1]);
        for (int n = 0; n < 2; n++)
            if (rivals[n].status == MTASK_BROKEN) {
                broken++;
                check_fed(ends[n][0], "z");
            }
        ck_assert_int_eq(broken, 1);
        end_fds(ends[0]);
        end_fds(ends[1]);
    }
    return arg;
}

START_TEST(who_was_woken_too_late_reads_nothing_of_another_descriptor) {
    (void)in_loop(play_readers, NULL);
}
END_TEST

/* ---- descriptors of others keep their mode, and are mtask's own by adoption ---- */

static void keep_mode(scene *s) {
    bool blocking = is_blocking(s->fd);
    ck_assert(blocking == (!s->of->own && s->of->name[0] == 'p'));
    (void)make_at_once(s);
    hold_up(s);
    s->timeout = MTASK_US(20);
    (void)make_call_now(s);
    ck_assert(is_blocking(s->fd) == blocking);
    let_go(s);
    (void)make_call_now(s);
    ck_assert(is_blocking(s->fd) == blocking);
}

START_TEST(descriptors_of_others_keep_their_mode) {
    play_solo(keep_mode);
}
END_TEST

static void check_own(int fd) {
    ck_assert(!is_blocking(fd));
    ck_assert_int_eq(fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
}

static void *look_at_own(void *arg) {
    int ends[2];
    open_pipe(ends);
    check_own(ends[0]);
    check_own(ends[1]);
    end_fds(ends);
    open_pair(ends);
    check_own(ends[0]);
    check_own(ends[1]);
    feed(ends[0], "there");
    check_fed(ends[1], "there");
    feed(ends[1], "back");
    check_fed(ends[0], "back");
    end_fds(ends);
    return arg;
}

START_TEST(descriptors_that_mtask_makes_neither_block_nor_outlive_exec) {
    everywhere(look_at_own, NULL);
}
END_TEST

static void *adopt(void *arg) {
    int ends[2], file = open_file(10);
    char byte;
    plain_pipe(ends);
    for (int i = 0; i < 3; i++) /* it may have been waited for, and adopted, before */
        ck_assert_status(mtask_io_wait(ends[0], MTASK_IO_READ, MTASK_US(10)), MTASK_TIMEOUT);
    ck_assert_status(mtask_io_adopt(ends[0]), MTASK_OK);
    ck_assert(!is_blocking(ends[0]));
    ck_assert(is_blocking(ends[1]));
    ck_assert_status(mtask_io_adopt(ends[0]), MTASK_OK);
    ck_assert_status(mtask_io_wait(ends[0], MTASK_IO_READ, MTASK_US(10)), MTASK_TIMEOUT);
    feed(ends[1], "x");
    ck_assert_status(mtask_io_read(ends[0], &byte, 1, NULL, LONG), MTASK_OK);
    ck_assert_status(mtask_io_adopt(ends[1]), MTASK_OK);
    end_fds(ends);
    errno = 0;
    ck_assert_status(mtask_io_adopt(ends[0]), MTASK_SYSTEM);
    ck_assert_int_eq(errno, EBADF);
    ck_assert_status(mtask_io_adopt(file), MTASK_OK);
    ck_assert_status(mtask_io_read(file, &byte, 1, NULL, MTASK_NOWAIT), MTASK_OK);
    end_fd(file);
    return arg;
}

START_TEST(a_descriptor_can_be_handed_over) {
    everywhere(adopt, NULL);
}
END_TEST

/* ---- errors and hang-ups, for both directions ---- */

/* What is waited for although it can never come, unless the other end goes. */
typedef struct hangup {
    const kind *of;
    int ends[2];
    int waits; /* for which end it waits */
    unsigned events;
    mtask_status status;
    flow flows[2];
} hangup;

static void *wait_for_hangup(void *arg) {
    hangup *self = (hangup *)arg;
    self->status = mtask_io_wait(self->ends[self->waits], self->events, LONG);
    return arg;
}

static void *hang_up_other(void *arg) {
    hangup *self = (hangup *)arg;
    await_flow(&self->flows[0]);
    testing_check(!flow_has_ended(&self->flows[0]));
    end_one(self->of, &self->ends[!self->waits]);
    return arg;
}

static void play_hangup(const kind *of, int waits, place where) {
    hangup self = {.of = of, .waits = waits, .status = MTASK_INVALID};
    unsigned both[] = {MTASK_IO_READ, MTASK_IO_WRITE};
    of->open(self.ends);
    self.events = both[!waits]; /* reading of what is written, and writing of what is read */
    self.flows[0] = (flow){.fn = wait_for_hangup, .arg = &self};
    self.flows[1] = (flow){.fn = hang_up_other, .arg = &self};
    run_flows(self.flows, where);
    ck_assert_status(self.status, MTASK_OK);
    for (int i = 0; i < 2; i++) /* and it stays so */
        ck_assert_status(mtask_io_wait(self.ends[waits], both[i], MTASK_NOWAIT), MTASK_OK);
    end_one(of, &self.ends[waits]);
}

START_TEST(a_hang_up_is_told_in_both_directions) {
    for (int where = 0; where < PLACES; where++)
        for (int i = 0; i < KINDS; i++)
            if (!kinds[i].socket && is_played(i / 3, where)) {
                play_hangup(&kinds[i], 0, (place)where);
                play_hangup(&kinds[i], 1, (place)where);
            }
}
END_TEST

/* Has a descriptor's closing be a reset. */
static void reset(const kind *of, int *fd) {
    struct linger at_once = {1, 0};
    testing_check(setsockopt(*fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once) == 0);
    end_one(of, fd);
}

static void *reset_under_call(void *arg) {
    scene *s = (scene *)arg;
    await_call(s);
    reset(s->of, &s->ends[!s->what->writes]);
    return arg;
}

static void be_reset(scene *s) {
    if (!s->of->tcp)
        return;
    hold_up(s);
    play(s, reset_under_call);
    check_undone(s, s->what->moves ? MTASK_BROKEN : MTASK_OK);
    if (s->what->moves)
        testing_check(s->error == ECONNRESET || s->error == EPIPE);
    if (!s->what->moves || s->what->writes)
        return;
    ck_assert_int_eq(s->error, ECONNRESET);
    ck_assert_status(make_at_once(s), MTASK_CLOSED); /* that is what the system says then */
}

START_TEST(a_reset_breaks_the_connection) {
    for (long i = 0; i < CALLS; i++)
        for (int where = 0; where < PLACES; where++) {
            scene s;
            if (!is_played(i, where))
                continue;
            open_scene(&s, &calls[i], where % 2 ? &kinds[2] : &kinds[5]);
            s.where = (place)where;
            be_reset(&s);
            close_scene(&s);
        }
}
END_TEST

/* ---- SIGPIPE ---- */

/* Writes until the system says that nobody reads: of TCP it hears with delay. */
static void write_until_broken(scene *s) {
    do {
        s->timeout = LONG;
        (void)make_call_now(s);
    } while (s->of->tcp && s->status == MTASK_OK);
    check_undone(s, MTASK_BROKEN);
    testing_check(s->error == EPIPE || (s->of->tcp && s->error == ECONNRESET));
}

static void write_to_nobody(scene *s) {
    sigset_t before, after, pending;
    if (!s->what->writes || !s->what->moves)
        return;
    end_one(s->of, &s->ends[0]);
    testing_check(pthread_sigmask(SIG_SETMASK, NULL, &before) == 0);
    for (int i = 0; i < 3; i++)
        write_until_broken(s);
    testing_check(pthread_sigmask(SIG_SETMASK, NULL, &after) == 0);
    for (int number = 1; number < 32; number++)
        ck_assert_int_eq(sigismember(&before, number), sigismember(&after, number));
    testing_check(sigpending(&pending) == 0);
    ck_assert_int_eq(sigismember(&pending, SIGPIPE), 0);
}

START_TEST(no_sigpipe_ends_the_program) {
    struct sigaction action;
    testing_check(sigaction(SIGPIPE, NULL, &action) == 0);
    testing_check(action.sa_handler == SIG_DFL);
    play_solo(write_to_nobody);
    testing_check(sigaction(SIGPIPE, NULL, &action) == 0);
    testing_check(action.sa_handler == SIG_DFL);
}
END_TEST

/* A SIGPIPE that somebody else has sent to the thread is still to come. */
static void write_while_one_is_pending(scene *s) {
    sigset_t pipe_alone, before, pending;
    struct timespec no_time = {0, 0};
    if (!s->what->writes || !s->what->moves)
        return;
    sigemptyset(&pipe_alone);
    sigaddset(&pipe_alone, SIGPIPE);
    testing_check(pthread_sigmask(SIG_BLOCK, &pipe_alone, &before) == 0);
    write_to_nobody(s);
    testing_check(raise(SIGPIPE) == 0);
    write_until_broken(s);
    testing_check(sigpending(&pending) == 0);
    ck_assert_int_eq(sigismember(&pending, SIGPIPE), 1);
    ck_assert_int_eq(sigtimedwait(&pipe_alone, NULL, &no_time), SIGPIPE);
    ck_assert_int_eq(sigtimedwait(&pipe_alone, NULL, &no_time), -1);
    testing_check(pthread_sigmask(SIG_SETMASK, &before, NULL) == 0);
}

START_TEST(a_sigpipe_that_was_pending_stays) {
    play_solo(write_while_one_is_pending);
}
END_TEST

static mtask_word caught;

static void catch_pipe(int number) {
    (void)number;
    mtask_word_store(&caught, 1);
}

START_TEST(no_handler_hears_of_a_sigpipe) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = catch_pipe;
    testing_check(sigaction(SIGPIPE, &action, NULL) == 0);
    play_solo(write_to_nobody);
    ck_assert_int_eq(mtask_word_load(&caught), 0);
}
END_TEST

/* ---- more than fits at once ---- */

enum { MUCH = 200000 };

typedef struct transfer {
    const kind *of;
    int ends[2];
    int file;
    int way; /* 0: write, 1: writev, 2: sendfile */
    uint64_t seed;
    unsigned char *sent;
    flow flows[2];
} transfer;

/* Cuts a buffer into `n` pieces of chance, some of them empty. */
static void cut(struct iovec *parts, int n, unsigned char *bytes, size_t size,
                testing_random *random) {
    for (int i = 0; i < n; i++) {
        size_t piece = (size_t)testing_below(random, 2 * size / (size_t)n + 1);
        if (testing_below(random, 3) == 0)
            piece = 0;
        if (piece > size || i == n - 1)
            piece = size;
        parts[i] = (struct iovec){bytes, piece};
        bytes += piece;
        size -= piece;
    }
}

static void *send_much(void *arg) {
    transfer *self = (transfer *)arg;
    testing_random random = testing_random_make(self->seed, 1);
    struct iovec parts[1024];
    size_t count = 0;
    mtask_status status;
    if (self->way == 0) {
        status = mtask_io_write(self->ends[1], self->sent, MUCH, &count, LONG);
    } else if (self->way == 1) {
        cut(parts, 1024, self->sent, MUCH, &random);
        status = mtask_io_writev(self->ends[1], parts, 1024, &count, LONG);
    } else {
        status = mtask_io_sendfile(self->ends[1], self->file, 0, MUCH, &count, LONG);
    }
    ck_assert_status(status, MTASK_OK);
    ck_assert_uint_eq(count, MUCH);
    end_one(self->of, &self->ends[1]);
    return arg;
}

static void *receive_much(void *arg) {
    transfer *self = (transfer *)arg;
    testing_random random = testing_random_make(self->seed, 2);
    static const size_t sizes[] = {1, 100, 5000, 70000};
    size_t total = 0, count;
    unsigned char *bytes = (unsigned char *)malloc(70000);
    testing_check(bytes != NULL);
    for (;;) {
        size_t size = 1 + testing_below(&random, sizes[testing_below(&random, 4)]);
        struct iovec parts[5];
        mtask_status status;
        cut(parts, 5, bytes, size, &random);
        if (testing_below(&random, 2) == 0)
            status = mtask_io_read(self->ends[0], bytes, size, &count, LONG);
        else
            status = mtask_io_readv(self->ends[0], parts, 5, &count, LONG);
        if (status != MTASK_OK) {
            ck_assert_status(status, MTASK_CLOSED);
            break;
        }
        testing_check(count > 0 && count <= size);
        check_pattern(bytes, total, count);
        total += count;
    }
    ck_assert_uint_eq(total, MUCH);
    free(bytes);
    return arg;
}

static void play_transfer(const kind *of, int way, place where) {
    transfer self = {.of = of, .way = way, .file = -1};
    self.seed = testing_seed();
    self.sent = (unsigned char *)malloc(MUCH);
    testing_check(self.sent != NULL);
    make_pattern(self.sent, 0, MUCH);
    if (way == 2)
        self.file = open_file(MUCH);
    of->open(self.ends);
    self.flows[0] = (flow){.fn = send_much, .arg = &self};
    self.flows[1] = (flow){.fn = receive_much, .arg = &self};
    run_flows(self.flows, where);
    end_one(of, &self.ends[0]);
    if (way == 2)
        testing_check(close(self.file) == 0);
    free(self.sent);
}

START_TEST(all_of_it_is_written_however_much_it_is) {
    for (int i = 0; i < KINDS; i++)
        for (int way = 0; way < 3; way++) {
            play_transfer(&kinds[i], way, IN_TASKS);
            play_transfer(&kinds[i], way, (place)(1 + (i + way) % (PLACES - 1)));
        }
}
END_TEST

/* ---- what was moved when a call ends early ---- */

/* Makes a call of `size` bytes that has to end early; how many it says that it has moved. */
static size_t write_part(scene *s, size_t size, mtask_status expected) {
    unsigned char *bytes = (unsigned char *)malloc(size);
    struct iovec parts[3] = {{NULL, 0}, {NULL, size / 3}, {NULL, size - size / 3}};
    size_t count = 77;
    mtask_status status;
    testing_check(bytes != NULL);
    make_pattern(bytes, 0, size);
    parts[1].iov_base = bytes;
    parts[2].iov_base = bytes + size / 3;
    if (s->what->make == make_write)
        status = mtask_io_write(s->fd, bytes, size, &count, s->timeout);
    else if (s->what->make == make_writev)
        status = mtask_io_writev(s->fd, parts, 3, &count, s->timeout);
    else
        status = mtask_io_sendfile(s->fd, s->file, 0, size, &count, s->timeout);
    ck_assert_status(status, expected);
    free(bytes);
    return count;
}

enum { PART = 150000 }; /* more than there is room for */

/* Reads what is there, all of which must be the beginning of the pattern. */
static void check_part(scene *s, size_t count) {
    unsigned char *bytes = (unsigned char *)malloc(PART);
    size_t total = 0;
    ssize_t got;
    testing_check(bytes != NULL && count > 0 && count < PART);
    set_blocking(s->ends[0], true);
    while (total < count) {
        got = read(s->ends[0], bytes, count - total);
        testing_check(got > 0);
        check_pattern(bytes, total, (size_t)got);
        total += (size_t)got;
    }
    ck_assert_int_eq(polled(s->ends[0], POLLIN), 0);
    free(bytes);
}

/* Only calls that write; of the files, one that is long enough. */
static bool writes_part(scene *s) {
    if (!s->what->writes || !s->what->moves)
        return false;
    if (s->file >= 0) {
        testing_check(close(s->file) == 0);
        s->file = open_file(PART);
    }
    return true;
}

static void be_short_of_time(scene *s) {
    size_t count;
    int64_t start = mtask_now();
    if (!writes_part(s))
        return;
    s->timeout = MTASK_MS(2);
    count = write_part(s, PART, MTASK_TIMEOUT);
    ck_assert_int_ge(mtask_now() - start, MTASK_MS(2));
    check_part(s, count);
}

START_TEST(a_timeout_tells_how_much_was_written) {
    play_solo(be_short_of_time);
}
END_TEST

static void write_what_fits(scene *s) {
    if (!writes_part(s))
        return;
    s->timeout = MTASK_NOWAIT;
    check_part(s, write_part(s, PART, MTASK_TIMEOUT));
}

START_TEST(without_time_to_wait_what_fits_is_written) {
    play_solo(write_what_fits);
}
END_TEST

static void *write_until_canceled(void *arg) {
    scene *s = (scene *)arg;
    s->count = write_part(s, PART, MTASK_CANCELED);
    return arg;
}

static void *cancel_each_write(void *arg) {
    for (long i = 0; i < CALLS; i++)
        for (int n = 0; n < KINDS; n++) {
            mtask_future *future;
            scene s;
            open_scene(&s, &calls[i], &kinds[n]);
            if (writes_part(&s)) {
                future = go(write_until_canceled, &s);
                take_turns();
                if (s.of->tcp)
                    linger();
                ck_assert_status(mtask_future_cancel(future), MTASK_OK);
                (void)take(future);
                check_part(&s, s.count);
            }
            close_scene(&s);
        }
    return arg;
}

START_TEST(a_cancelled_write_tells_how_much_was_written) {
    (void)in_loop(cancel_each_write, NULL);
}
END_TEST

static void *break_under_write(void *arg) {
    scene *s = (scene *)arg;
    await_call(s);
    if (s->timeout == LONG) {
        end_one(s->of, &s->ends[0]);
    } else {
        end_fd(s->ends[1]);
        s->ends[1] = -1;
    }
    return arg;
}

static void *write_until_it_breaks(void *arg) {
    scene *s = (scene *)arg;
    s->count = write_part(s, PART, MTASK_BROKEN);
    if (s->timeout == LONG)
        testing_check(errno == EPIPE || errno == ECONNRESET);
    else
        ck_assert_int_eq(errno, EBADF);
    return arg;
}

static void be_broken(scene *s) {
    if (!writes_part(s))
        return;
    s->flows[0] = (flow){.fn = write_until_it_breaks, .arg = s};
    s->flows[1] = (flow){.fn = break_under_write, .arg = s};
    run_flows(s->flows, s->where);
    testing_check(s->count > 0 && s->count < PART);
}

START_TEST(a_broken_write_tells_how_much_was_written) {
    play_all(be_broken);
}
END_TEST

/* ---- pieces of memory ---- */

static void *move_1024_parts(void *arg) {
    const kind *of = (const kind *)arg;
    unsigned char from[1024], to[1024] = {0};
    struct iovec parts[1024];
    size_t count = 0;
    int ends[2];
    of->open(ends);
    make_pattern(from, 0, 1024);
    for (size_t i = 0; i < 1024; i++)
        parts[i] = (struct iovec){&from[i], 1};
    ck_assert_status(mtask_io_writev(ends[1], parts, 1024, &count, LONG), MTASK_OK);
    ck_assert_uint_eq(count, 1024);
    for (size_t i = 0; i < 1024; i++)
        parts[i] = (struct iovec){&to[i], 1};
    ck_assert_status(mtask_io_readv(ends[0], parts, 1024, &count, LONG), MTASK_OK);
    ck_assert_uint_eq(count, 1024);
    check_pattern(to, 0, 1024);
    for (size_t i = 0; i < 1024; i++) /* only the last one is not empty */
        parts[i] = (struct iovec){&from[i], i == 1023};
    ck_assert_status(mtask_io_writev(ends[1], parts, 1024, &count, LONG), MTASK_OK);
    ck_assert_uint_eq(count, 1);
    parts[1023].iov_base = to;
    ck_assert_status(mtask_io_readv(ends[0], parts, 1024, &count, LONG), MTASK_OK);
    ck_assert_uint_eq(count, 1);
    ck_assert_uint_eq(to[0], from[1023]);
    end_one(of, &ends[0]);
    end_one(of, &ends[1]);
    return arg;
}

START_TEST(there_may_be_1024_parts) {
    each_kind(move_1024_parts);
}
END_TEST

/* A message stays one, of however many parts it is made. */
static void *move_messages(void *arg) {
    char from[100], to[200];
    struct iovec parts[100];
    size_t count = 0;
    int ends[2];
    testing_check(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends) == 0);
    memset(from, 'm', sizeof from);
    for (size_t i = 0; i < 100; i++)
        parts[i] = (struct iovec){&from[i], 1};
    for (int i = 0; i < 2; i++)
        ck_assert_status(mtask_io_writev(ends[1], parts, 100, &count, LONG), MTASK_OK);
    ck_assert_uint_eq(count, 100);
    testing_check(read(ends[0], to, sizeof to) == 100);
    for (size_t i = 0; i < 100; i++)
        parts[i] = (struct iovec){&to[i], 1};
    memset(to, '.', sizeof to);
    ck_assert_status(mtask_io_readv(ends[0], parts, 100, &count, LONG), MTASK_OK);
    ck_assert_uint_eq(count, 100);
    ck_assert_mem_eq(to, from, 100);
    ck_assert_status(mtask_io_readv(ends[0], parts, 100, &count, MTASK_NOWAIT), MTASK_TIMEOUT);
    end_plain(ends);
    return arg;
}

START_TEST(a_message_of_many_parts_stays_one) {
    everywhere(move_messages, NULL);
}
END_TEST

/* What does not fit into the first parts goes into the next, and no further than there is. */
static void *scatter(void *arg) {
    const kind *of = (const kind *)arg;
    char to[16];
    struct iovec parts[4] = {{to, 2}, {NULL, 0}, {to + 4, 3}, {to + 8, 8}};
    const struct iovec before[4] = {{to, 2}, {NULL, 0}, {to + 4, 3}, {to + 8, 8}};
    size_t count = 0;
    int ends[2];
    of->open(ends);
    memset(to, '.', sizeof to);
    feed(ends[1], "abcdefg");
    ck_assert_status(mtask_io_readv(ends[0], parts, 4, &count, LONG), MTASK_OK);
    ck_assert_uint_eq(count, 7);
    ck_assert_mem_eq(to, "ab..cde.fg......", 16);
    ck_assert_status(mtask_io_writev(ends[1], parts, 3, &count, LONG), MTASK_OK);
    ck_assert_uint_eq(count, 5);
    check_fed(ends[0], "abcde");
    ck_assert_mem_eq(parts, before, sizeof parts); /* they are the caller's */
    end_one(of, &ends[0]);
    end_one(of, &ends[1]);
    return arg;
}

START_TEST(parts_are_filled_in_their_order) {
    each_kind(scatter);
}
END_TEST

/* ---- files sent ---- */

/* Sends, and fails the test unless this is what comes of it. */
static void check_sendfile(const int ends[2], int file, int64_t offset, size_t size,
                           mtask_status expected, size_t sent) {
    char bytes[256];
    size_t count = 77;
    testing_check(sent < sizeof bytes);
    ck_assert_status(mtask_io_sendfile(ends[1], file, offset, size, &count, LONG), expected);
    ck_assert_uint_eq(count, sent);
    if (sent > 0)
        testing_check(read(ends[0], bytes, sizeof bytes) == (ssize_t)sent);
    check_pattern(bytes, (size_t)offset, sent);
    ck_assert_int_eq(polled(ends[0], POLLIN), 0);
}

static void *send_pieces(void *arg) {
    const kind *of = (const kind *)arg;
    int ends[2], file = open_file(100);
    of->open(ends);
    testing_check(lseek(file, 42, SEEK_SET) == 42);
    check_sendfile(ends, file, 0, 100, MTASK_OK, 100);
    check_sendfile(ends, file, 0, 1, MTASK_OK, 1);
    check_sendfile(ends, file, 99, 1, MTASK_OK, 1);
    check_sendfile(ends, file, 30, 50, MTASK_OK, 50);
    check_sendfile(ends, file, 30, 0, MTASK_OK, 0);
    check_sendfile(ends, file, 90, 11, MTASK_CLOSED, 10);
    check_sendfile(ends, file, 0, SIZE_MAX / 4, MTASK_CLOSED, 100);
    check_sendfile(ends, file, 100, 1, MTASK_CLOSED, 0);
    check_sendfile(ends, file, 1000, 1, MTASK_CLOSED, 0);
    check_sendfile(ends, file, INT64_C(1) << 40, 5, MTASK_CLOSED, 0);
    ck_assert_int_eq(lseek(file, 0, SEEK_CUR), 42); /* its position stays */
    testing_check(close(file) == 0);
    end_one(of, &ends[0]);
    end_one(of, &ends[1]);
    return arg;
}

START_TEST(any_part_of_a_file_can_be_sent) {
    each_kind(send_pieces);
}
END_TEST

static void *send_from_afar(void *arg) {
    int64_t far = INT64_C(5) << 30;
    char bytes[8];
    size_t count = 0;
    int ends[2], file = open_file(0);
    testing_check(pwrite(file, letters, PIECE, far) == PIECE); /* before it is a hole */
    open_pair(ends);
    ck_assert_status(mtask_io_sendfile(ends[1], file, far, 100, &count, LONG), MTASK_CLOSED);
    ck_assert_uint_eq(count, PIECE);
    testing_check(read(ends[0], bytes, PIECE) == PIECE);
    ck_assert_mem_eq(bytes, letters, PIECE);
    testing_check(close(file) == 0);
    end_fds(ends);
    return arg;
}

START_TEST(a_file_may_be_longer_than_32_bits_count) {
    everywhere(send_from_afar, NULL);
}
END_TEST

/* Sends into `target`, a file, which receives `size` bytes of the pattern at its end. */
static void check_sent_to_file(int target, int file, size_t size) {
    unsigned char bytes[4096];
    size_t count = 77;
    off_t end = lseek(target, 0, SEEK_END);
    testing_check(size <= sizeof bytes);
    ck_assert_status(mtask_io_sendfile(target, file, 5, size, &count, LONG), MTASK_OK);
    ck_assert_uint_eq(count, size);
    testing_check(pread(target, bytes, size, end) == (ssize_t)size);
    check_pattern(bytes, 5, size);
}

/* To what the system does not send files: a file to whose end all is appended. */
static void *send_to_files(void *arg) {
    int file = open_file(5000), target = open_file(0);
    check_sent_to_file(target, file, 3000);
    testing_check(fcntl(target, F_SETFL, O_APPEND) == 0);
    check_sent_to_file(target, file, 3000);
    check_sent_to_file(target, file, 1);
    testing_check(close(file) == 0 && close(target) == 0);
    return arg;
}

START_TEST(files_can_be_sent_into_files) {
    everywhere(send_to_files, NULL);
}
END_TEST

static void *send_what_is_no_file(void *arg) {
    int ends[2], source[2], directory = open("/", O_RDONLY);
    size_t count = 77;
    open_pair(ends);
    plain_pipe(source);
    feed(source[1], "abc");
    errno = 0;
    ck_assert_status(mtask_io_sendfile(ends[1], source[0], 0, 3, &count, LONG), MTASK_SYSTEM);
    ck_assert_int_eq(errno, ESPIPE);
    ck_assert_uint_eq(count, 0);
    errno = 0;
    ck_assert_status(mtask_io_sendfile(ends[1], directory, 0, 3, &count, LONG), MTASK_SYSTEM);
    ck_assert_int_eq(errno, EISDIR);
    errno = 0;
    ck_assert_status(mtask_io_sendfile(ends[1], 1000000, 0, 3, &count, LONG), MTASK_SYSTEM);
    ck_assert_int_eq(errno, EBADF);
    ck_assert_status(mtask_io_sendfile(ends[1], source[0], -1, 3, &count, LONG), MTASK_INVALID);
    check_fed(source[0], "abc");
    ck_assert_int_eq(polled(ends[0], POLLIN), 0);
    testing_check(close(directory) == 0);
    end_plain(source);
    end_fds(ends);
    return arg;
}

START_TEST(what_has_no_offsets_cannot_be_sent_as_a_file) {
    everywhere(send_what_is_no_file, NULL);
}
END_TEST

/* ---- files, devices, terminals ---- */

static void *use_file(void *arg) {
    int fd = open_file(10), i;
    char bytes[16];
    size_t count = 0;
    mtask_io_case one = {fd, MTASK_IO_READ | MTASK_IO_WRITE, 0};
    for (i = 0; i < 3; i++) {
        ck_assert_status(mtask_io_wait(fd, MTASK_IO_READ, LONG), MTASK_OK);
        ck_assert_status(mtask_io_wait(fd, MTASK_IO_WRITE, MTASK_NOWAIT), MTASK_OK);
    }
    ck_assert_status(mtask_io_select(&one, 1, LONG), MTASK_OK);
    ck_assert_uint_eq(one.ready, MTASK_IO_READ | MTASK_IO_WRITE);
    ck_assert_status(mtask_io_read(fd, bytes, 16, &count, LONG), MTASK_OK);
    ck_assert_uint_eq(count, 10);
    check_pattern(bytes, 0, 10);
    ck_assert_status(mtask_io_read(fd, bytes, 16, &count, LONG), MTASK_CLOSED);
    ck_assert_status(mtask_io_write(fd, "more", 4, &count, LONG), MTASK_OK);
    ck_assert_uint_eq(count, 4);
    ck_assert_int_eq(lseek(fd, 0, SEEK_CUR), 14);
    end_fd(fd);
    return arg;
}

START_TEST(files_are_always_ready) {
    everywhere(use_file, NULL);
}
END_TEST

static void *use_null(void *arg) {
    int fd = open("/dev/null", O_RDWR), zero = open("/dev/zero", O_RDONLY);
    char bytes[4] = "xyz";
    size_t count = 77;
    testing_check(fd >= 0 && zero >= 0);
    ck_assert_status(mtask_io_wait(fd, MTASK_IO_READ, LONG), MTASK_OK);
    ck_assert_status(mtask_io_wait(fd, MTASK_IO_WRITE, LONG), MTASK_OK);
    ck_assert_status(mtask_io_write(fd, bytes, 4, &count, LONG), MTASK_OK);
    ck_assert_uint_eq(count, 4);
    ck_assert_status(mtask_io_read(fd, bytes, 4, &count, LONG), MTASK_CLOSED);
    ck_assert_uint_eq(count, 0);
    ck_assert_status(mtask_io_sendfile(fd, fd, 0, 4, &count, LONG), MTASK_CLOSED);
    ck_assert_status(mtask_io_read(zero, bytes, 4, &count, LONG), MTASK_OK);
    ck_assert_uint_eq(count, 4);
    ck_assert_mem_eq(bytes, "\0\0\0\0", 4);
    testing_check(close(fd) == 0 && close(zero) == 0);
    return arg;
}

START_TEST(devices_are_read_and_written) {
    everywhere(use_null, NULL);
}
END_TEST

/* A terminal: what is written to the first end is typed, what is shown is read from there. The
   second is the program's. Both block. */
static bool open_terminal(int ends[2]) {
    const char *name;
    struct termios modes;
    ends[0] = posix_openpt(O_RDWR | O_NOCTTY);
    if (ends[0] < 0 || grantpt(ends[0]) != 0 || unlockpt(ends[0]) != 0)
        return false;
    name = ptsname(ends[0]);
    ends[1] = name != NULL ? open(name, O_RDWR | O_NOCTTY) : -1;
    if (ends[1] < 0)
        return false;
    testing_check(tcgetattr(ends[1], &modes) == 0);
    modes.c_lflag &= ~(tcflag_t)ECHO;
    modes.c_oflag &= ~(tcflag_t)OPOST;
    testing_check(tcsetattr(ends[1], TCSANOW, &modes) == 0);
    return true;
}

typedef struct terminal {
    int ends[2];
    flow flows[2];
} terminal;

static void *read_lines(void *arg) {
    terminal *self = (terminal *)arg;
    char line[32];
    size_t count = 0;
    ck_assert_status(mtask_io_read(self->ends[1], line, sizeof line, &count, LONG), MTASK_OK);
    ck_assert_uint_eq(count, 6);
    ck_assert_mem_eq(line, "hello\n", 6);
    ck_assert_status(mtask_io_read(self->ends[1], line, 3, &count, LONG), MTASK_OK);
    ck_assert_mem_eq(line, "and", 3);
    ck_assert_status(mtask_io_read(self->ends[1], line, sizeof line, &count, LONG), MTASK_OK);
    ck_assert_mem_eq(line, " more\n", 6);
    ck_assert_status(mtask_io_read(self->ends[1], line, 9, &count, SHORT), MTASK_TIMEOUT);
    mtask_word_store(&self->flows[0].ended, 1);
    ck_assert_status(mtask_io_read(self->ends[1], line, 9, &count, LONG), MTASK_CLOSED);
    return arg;
}

static void *type_lines(void *arg) {
    terminal *self = (terminal *)arg;
    await_flow(&self->flows[0]);
    ck_assert_status(mtask_io_write(self->ends[0], "hel", 3, NULL, LONG), MTASK_OK);
    linger(); /* half a line is no input */
    testing_check(!flow_has_ended(&self->flows[0]));
    feed(self->ends[0], "lo\nand more\n");
    while (!flow_has_ended(&self->flows[0]))
        linger();
    feed(self->ends[0], "\4"); /* ^D: the end of the input */
    return arg;
}

START_TEST(a_terminal_is_read_line_by_line) {
    for (int where = 0; where < PLACES; where++) {
        terminal self;
        memset(&self, 0, sizeof self);
        if (!open_terminal(self.ends))
            return; /* there are none */
        self.flows[0] = (flow){.fn = read_lines, .arg = &self};
        self.flows[1] = (flow){.fn = type_lines, .arg = &self};
        run_flows(self.flows, (place)where);
        ck_assert(is_blocking(self.ends[1]));
        end_plain(self.ends);
    }
}
END_TEST

enum { SHOWN = 20000 }; /* more than a terminal holds */

static void *show_much(void *arg) {
    terminal *self = (terminal *)arg;
    char bytes[SHOWN];
    size_t count = 0;
    memset(bytes, 'x', sizeof bytes);
    ck_assert_status(mtask_io_write(self->ends[1], bytes, SHOWN, &count, LONG), MTASK_OK);
    ck_assert_uint_eq(count, SHOWN);
    return arg;
}

static void *look_at_much(void *arg) {
    terminal *self = (terminal *)arg;
    char bytes[500];
    await_flow(&self->flows[0]);
    testing_check(!flow_has_ended(&self->flows[0]));
    for (size_t total = 0, count = 0; total < SHOWN; total += count)
        ck_assert_status(mtask_io_read(self->ends[0], bytes, 500, &count, LONG), MTASK_OK);
    return arg;
}

START_TEST(a_terminal_that_shows_much_blocks_no_loop) {
    for (int where = 0; where < PLACES; where++) {
        terminal self;
        memset(&self, 0, sizeof self);
        if (!open_terminal(self.ends))
            return;
        self.flows[0] = (flow){.fn = show_much, .arg = &self};
        self.flows[1] = (flow){.fn = look_at_much, .arg = &self};
        run_flows(self.flows, (place)where);
        end_plain(self.ends);
    }
}
END_TEST

/* ---- several descriptors ---- */

enum { SOME = 6 };

typedef struct choice {
    int ends[SOME][2];
    mtask_io_case cases[SOME + 1];
    mtask_status status;
    flow flows[2];
    int picks;
} choice;

static void open_choice(choice *self) {
    memset(self, 0, sizeof *self);
    for (int i = 0; i < SOME; i++) {
        kinds[(i * 3 + 1) % KINDS].open(self->ends[i]);
        self->cases[i] = (mtask_io_case){self->ends[i][0], MTASK_IO_READ, 9};
    }
    self->cases[SOME] = (mtask_io_case){-5, MTASK_IO_READ, 9}; /* none */
}

static void close_choice(choice *self) {
    for (int i = 0; i < SOME; i++) {
        end_one(&kinds[(i * 3 + 1) % KINDS], &self->ends[i][0]);
        end_one(&kinds[(i * 3 + 1) % KINDS], &self->ends[i][1]);
    }
}

/* Fails the test unless these, of a mask, are ready to be read, and no others. */
static void check_chosen(const choice *self, unsigned mask) {
    for (unsigned i = 0; i <= SOME; i++)
        ck_assert_uint_eq(self->cases[i].ready, (mask >> i & 1) * MTASK_IO_READ);
}

static mtask_status choose(choice *self, int64_t timeout) {
    self->status = mtask_io_select(self->cases, SOME + 1, timeout);
    return self->status;
}

static void *choose_alone(void *arg) {
    choice self;
    int64_t start = mtask_now();
    open_choice(&self);
    ck_assert_status(choose(&self, MTASK_NOWAIT), MTASK_TIMEOUT);
    check_chosen(&self, 0);
    ck_assert_status(choose(&self, SHORT), MTASK_TIMEOUT);
    ck_assert_int_ge(mtask_now() - start, SHORT);
    check_chosen(&self, 0);
    feed(self.ends[2][1], "x");
    ck_assert_status(choose(&self, LONG), MTASK_OK);
    check_chosen(&self, 4);
    feed(self.ends[5][1], "y");
    ck_assert_status(choose(&self, MTASK_NOWAIT), MTASK_OK);
    check_chosen(&self, 36);
    check_fed(self.ends[2][0], "x");
    ck_assert_status(choose(&self, MTASK_FOREVER), MTASK_OK);
    check_chosen(&self, 32);
    ck_assert_status(choose(&self, -1), MTASK_INVALID);
    close_choice(&self);
    return arg;
}

START_TEST(a_choice_tells_all_that_is_ready) {
    everywhere(choose_alone, NULL);
}
END_TEST

static void *choose_both_directions(void *arg) {
    int ends[2];
    mtask_io_case cases[3];
    open_pair(ends);
    for (int i = 0; i < 3; i++) /* the same descriptor, as often as one likes */
        cases[i] = (mtask_io_case){ends[0], (unsigned)i + 1, 0};
    ck_assert_status(mtask_io_select(cases, 1, MTASK_US(50)), MTASK_TIMEOUT);
    ck_assert_status(mtask_io_select(cases, 3, LONG), MTASK_OK);
    ck_assert_uint_eq(cases[0].ready, 0);
    ck_assert_uint_eq(cases[1].ready, MTASK_IO_WRITE);
    ck_assert_uint_eq(cases[2].ready, MTASK_IO_WRITE);
    (void)fill_fd(ends[0]);
    ck_assert_status(mtask_io_select(cases, 3, MTASK_US(50)), MTASK_TIMEOUT);
    end_fd(ends[1]);
    ck_assert_status(mtask_io_select(cases, 3, LONG), MTASK_OK);
    for (unsigned i = 0; i < 3; i++)
        ck_assert_uint_eq(cases[i].ready, i + 1);
    end_fd(ends[0]);
    return arg;
}

START_TEST(a_choice_of_both_directions) {
    everywhere(choose_both_directions, NULL);
}
END_TEST

static void *choose_and_wait(void *arg) {
    choice *self = (choice *)arg;
    (void)choose(self, LONG);
    return arg;
}

static void *feed_one(void *arg) {
    choice *self = (choice *)arg;
    await_flow(&self->flows[0]);
    testing_check(!flow_has_ended(&self->flows[0]));
    feed(self->ends[self->picks][1], "x");
    return arg;
}

static void *close_one(void *arg) {
    choice *self = (choice *)arg;
    await_flow(&self->flows[0]);
    end_fd(self->ends[self->picks][0]);
    self->ends[self->picks][0] = -1;
    return arg;
}

static void play_choice(mtask_fn second, place where, int picks) {
    choice self;
    open_choice(&self);
    self.picks = picks;
    self.flows[0] = (flow){.fn = choose_and_wait, .arg = &self};
    self.flows[1] = (flow){.fn = second, .arg = &self};
    run_flows(self.flows, where);
    ck_assert_status(self.status, second == feed_one ? MTASK_OK : MTASK_BROKEN);
    check_chosen(&self, second == feed_one ? 1U << picks : 0);
    close_choice(&self);
}

START_TEST(any_of_a_choice_ends_the_wait) {
    for (int where = 0; where < PLACES; where++)
        for (int picks = where == IN_TASKS ? 0 : SOME - 1; picks < SOME; picks++) {
            play_choice(feed_one, (place)where, picks);
            play_choice(close_one, (place)where, picks);
        }
}
END_TEST

static void *choose_badly(void *arg) {
    int ends[2];
    mtask_io_case cases[1025];
    for (int i = 0; i < 1025; i++)
        cases[i] = (mtask_io_case){-1, MTASK_IO_READ, 0};
    open_pair(ends);
    cases[0].fd = ends[0];
    ck_assert_status(mtask_io_select(cases, 1025, LONG), MTASK_INVALID);
    ck_assert_status(mtask_io_select(cases, 1024, MTASK_NOWAIT), MTASK_TIMEOUT);
    cases[1].fd = 1000000;
    errno = 0;
    ck_assert_status(mtask_io_select(cases, 2, LONG), MTASK_SYSTEM);
    ck_assert_int_eq(errno, EBADF);
    cases[1] = (mtask_io_case){ends[0], 16, 0};
    ck_assert_status(mtask_io_select(cases, 2, LONG), MTASK_INVALID);
    feed(ends[1], "x");
    cases[1].fd = -1;
    ck_assert_status(mtask_io_select(cases, 1024, LONG), MTASK_OK);
    ck_assert_uint_eq(cases[0].ready, MTASK_IO_READ);
    end_fds(ends);
    return arg;
}

static void *choose_of_none(void *arg) {
    mtask_io_case none[3] = {{-1, MTASK_IO_READ, 7}, {-2, 0, 7}, {INT_MIN, 99, 7}};
    int64_t start = mtask_now();
    ck_assert_status(mtask_io_select(NULL, 0, MTASK_NOWAIT), MTASK_TIMEOUT);
    ck_assert_status(mtask_io_select(NULL, 0, SHORT), MTASK_TIMEOUT);
    ck_assert_int_ge(mtask_now() - start, SHORT);
    ck_assert_status(mtask_io_select(none, 3, SHORT), MTASK_TIMEOUT);
    ck_assert_int_ge(mtask_now() - start, 2 * SHORT);
    for (int i = 0; i < 3; i++)
        ck_assert_uint_eq(none[i].ready, 0);
    ck_assert_status(mtask_io_select(NULL, 0, -1), MTASK_INVALID);
    return arg;
}

static void *choose_of_none_until_canceled(void *arg) {
    ck_assert_status(mtask_io_select(NULL, 0, LONG), MTASK_CANCELED);
    return arg;
}

static void *cancel_choice_of_none(void *arg) {
    mtask_future *future = go(choose_of_none_until_canceled, arg);
    take_turns();
    ck_assert_status(mtask_future_cancel(future), MTASK_OK);
    return take(future);
}

START_TEST(a_choice_of_none_waits) {
    everywhere(choose_of_none, NULL);
    (void)in_loop(cancel_choice_of_none, NULL);
}
END_TEST

START_TEST(what_cannot_be_chosen_is_refused) {
    everywhere(choose_badly, NULL);
}
END_TEST

/* ---- errno ---- */

static void *keep_errno(void *arg) {
    int ends[2];
    open_pipe(ends);
    for (int i = 0; i < 20; i++) {
        errno = E2BIG;
        ck_assert_status(mtask_io_wait(ends[0], MTASK_IO_READ, MTASK_US(10)), MTASK_TIMEOUT);
    }
    end_fds(ends);
    return arg;
}

static void *have_own_errno(void *arg) {
    mtask_future *other = go(keep_errno, NULL);
    for (int i = 0; i < 20; i++) {
        char byte;
        ck_assert_status(mtask_io_read(1000000, &byte, 1, NULL, LONG), MTASK_SYSTEM);
        take_turns();
        linger();
        ck_assert_int_eq(errno, EBADF);
    }
    (void)take(other);
    return arg;
}

START_TEST(errno_is_a_tasks_own) {
    (void)in_loop(have_own_errno, NULL);
}
END_TEST

/* ---- turns ---- */

typedef struct glutton {
    mtask_status (*consume)(struct glutton *self);
    int fd;
    long turns; /* of the other task */
} glutton;

static mtask_status read_zeroes(glutton *self) {
    char bytes[16];
    return mtask_io_read(self->fd, bytes, sizeof bytes, NULL, MTASK_FOREVER);
}

static mtask_status read_zeroes_at_once(glutton *self) {
    char bytes[16];
    struct iovec part = {bytes, sizeof bytes};
    return mtask_io_readv(self->fd, &part, 1, NULL, LONG);
}

static mtask_status wait_for_zeroes(glutton *self) {
    return mtask_io_wait(self->fd, MTASK_IO_READ, MTASK_FOREVER);
}

static mtask_status choose_zeroes(glutton *self) {
    mtask_io_case one = {self->fd, MTASK_IO_READ, 0};
    return mtask_io_select(&one, 1, MTASK_FOREVER);
}

static mtask_status write_away(glutton *self) {
    return mtask_io_write(self->fd, "away", 4, NULL, LONG);
}

static mtask_status write_parts_away(glutton *self) {
    char bytes[] = "away";
    struct iovec part = {bytes, 4};
    return mtask_io_writev(self->fd, &part, 1, NULL, LONG);
}

static void *take_ten_turns(void *arg) {
    glutton *self = (glutton *)arg;
    while (self->turns < 10) {
        self->turns++;
        take_turns();
    }
    return arg;
}

static void *consume_until_they_had_turns(void *arg) {
    glutton *self = (glutton *)arg;
    mtask_future *other = go(take_ten_turns, arg);
    while (self->turns < 10)
        ck_assert_status(self->consume(self), MTASK_OK);
    return take(other);
}

START_TEST(who_never_has_to_wait_lets_others_run) {
    mtask_status (*const ways[])(glutton *) = {read_zeroes,     read_zeroes_at_once,
                                               wait_for_zeroes, choose_zeroes,
                                               write_away,      write_parts_away};
    for (long i = 0; i < COUNT_OF(ways); i++) {
        glutton self = {.consume = ways[i]};
        self.fd = open(i < 4 ? "/dev/zero" : "/dev/null", O_RDWR);
        testing_check(self.fd >= 0);
        (void)in_loop(consume_until_they_had_turns, &self);
        testing_check(close(self.fd) == 0);
    }
}
END_TEST

static void *consume_pipe(void *arg) {
    glutton self = {.consume = read_zeroes};
    const kind *of = (const kind *)arg;
    int ends[2];
    of->open(ends);
    self.fd = ends[0];
    (void)fill_fd(ends[1]);
    (void)consume_until_they_had_turns(&self);
    end_one(of, &ends[0]);
    end_one(of, &ends[1]);
    return arg;
}

START_TEST(who_reads_from_what_is_full_lets_others_run) {
    for (int i = 0; i < KINDS; i++)
        (void)in_loop(consume_pipe, (void *)&kinds[i]);
}
END_TEST

/* ---- fork ---- */

/* Waits for a child to end well, while the other tasks of the loop go on. */
static void await_child(pid_t pid) {
    int status = 0;
    pid_t ended;
    while ((ended = waitpid(pid, &status, WNOHANG)) == 0)
        linger();
    testing_check(ended == pid);
    testing_check(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

typedef struct parting {
    pid_t parent;
    const kind *of;
    int ends[2];
    int reply[2];
    int spare[2];
    mtask_future *waiter;
} parting;

/* There is no loop in the child: its calls block. */
static void be_a_child(parting *self) {
    int64_t start = mtask_now();
    char byte = 0;
    int fd = self->ends[0];
    IN_CHILD(mtask_io_wait(fd, MTASK_IO_READ, MTASK_MS(1)) == MTASK_TIMEOUT);
    IN_CHILD(mtask_now() - start >= MTASK_MS(1));
    IN_CHILD(mtask_io_write(self->ends[1], "c", 1, NULL, LONG) == MTASK_OK);
    IN_CHILD(mtask_io_read(fd, &byte, 1, NULL, LONG) == MTASK_OK && byte == 'c');
    if (self->of->own) {
        IN_CHILD(mtask_io_close(fd) == MTASK_OK);
        IN_CHILD(mtask_io_close(self->ends[1]) == MTASK_OK);
        IN_CHILD(mtask_io_read(fd, &byte, 1, NULL, LONG) == MTASK_SYSTEM && errno == EBADF);
    } else {
        IN_CHILD(close(fd) == 0 && close(self->ends[1]) == 0);
    }
    IN_CHILD(mtask_io_write(self->reply[1], "d", 1, NULL, LONG) == MTASK_OK);
}

/* The parent's wait goes on, whatever the child does with its copies of the descriptors. */
static void *fork_beside_waiter(void *arg) {
    parting *self = (parting *)arg;
    char byte = 0;
    pid_t child;
    self->waiter = go(wait_for_byte, &self->reply[0]);
    ck_assert_status(mtask_io_wait(self->spare[0], MTASK_IO_READ, MTASK_US(10)), MTASK_TIMEOUT);
    child = fork_child();
    if (child == 0) {
        be_a_child(self);
        return arg;
    }
    (void)take(self->waiter);
    await_child(child);
    feed(self->ends[1], "p");
    ck_assert_status(mtask_io_read(self->ends[0], &byte, 1, NULL, LONG), MTASK_OK);
    ck_assert_int_eq(byte, 'p');
    self->waiter = go(wait_for_byte, &self->ends[0]);
    take_turns();
    feed(self->ends[1], "q"); /* it is still registered */
    (void)take(self->waiter);
    return arg;
}

/* In the child, a new loop can use the descriptors of the old one. */
static void *use_in_child_loop(void *arg) {
    parting *self = (parting *)arg;
    char byte = 0;
    int ends[2];
    IN_CHILD(mtask_io_read(self->spare[0], &byte, 1, NULL, MTASK_US(50)) == MTASK_TIMEOUT);
    IN_CHILD(mtask_io_write(self->spare[1], "s", 1, NULL, LONG) == MTASK_OK);
    IN_CHILD(mtask_io_read(self->spare[0], &byte, 1, NULL, LONG) == MTASK_OK && byte == 's');
    IN_CHILD(mtask_io_pair(ends) == MTASK_OK);
    IN_CHILD(mtask_io_read(ends[0], &byte, 1, NULL, MTASK_US(50)) == MTASK_TIMEOUT);
    IN_CHILD(mtask_io_write(ends[1], "e", 1, NULL, LONG) == MTASK_OK);
    IN_CHILD(mtask_io_read(ends[0], &byte, 1, NULL, LONG) == MTASK_OK && byte == 'e');
    return arg;
}

static void fork_with(const kind *of) {
    parting self = {.parent = getpid(), .of = of};
    mtask_status status;
    of->open(self.ends);
    of->open(self.reply);
    of->open(self.spare);
    status = mtask_loop_run(fork_beside_waiter, &self, NULL);
    if (getpid() != self.parent) {
        IN_CHILD(status == MTASK_BROKEN);
        if (!TESTING_TSAN) /* in a child it does not see what a switch orders */
            IN_CHILD(mtask_loop_run(use_in_child_loop, &self, NULL) == MTASK_OK);
        _exit(0);
    }
    ck_assert_status(status, MTASK_OK);
    for (int i = 0; i < 2; i++) {
        end_one(of, &self.ends[i]);
        end_one(of, &self.reply[i]);
        end_one(of, &self.spare[i]);
    }
}

START_TEST(after_a_fork_both_go_on) {
    for (int i = 0; i < KINDS; i++)
        fork_with(&kinds[i]);
}
END_TEST

static void wait_beside_fork(testing_member *self) {
    const int *ends = (const int *)self->arg;
    char byte = 0;
    ck_assert_status(mtask_io_read(ends[0], &byte, 1, NULL, LONG), MTASK_OK);
    ck_assert_int_eq(byte, 'x');
}

START_TEST(a_thread_waits_on_while_another_one_forks) {
    testing_crowd crowd = {.count = 0};
    testing_member *member;
    pid_t child;
    int ends[2];
    open_pipe(ends);
    member = testing_crowd_add(&crowd, wait_beside_fork, ends);
    testing_await_asleep(member);
    child = fork_child();
    if (child == 0) {
        int others[2];
        IN_CHILD(mtask_io_wait(ends[0], MTASK_IO_READ, MTASK_US(100)) == MTASK_TIMEOUT);
        IN_CHILD(pipe(others) == 0); /* of the numbers of what woke the parent's thread */
        IN_CHILD(mtask_io_close(ends[0]) == MTASK_OK);
        IN_CHILD(mtask_io_wait(others[0], MTASK_IO_READ, MTASK_NOWAIT) == MTASK_TIMEOUT);
        IN_CHILD(mtask_io_close(ends[1]) == MTASK_OK);
        _exit(0);
    }
    await_child(child);
    testing_check(!testing_has_finished(member));
    feed(ends[1], "x");
    testing_crowd_join(&crowd);
    end_fds(ends);
}
END_TEST

/* ---- many ---- */

/* How many descriptors a test may open of the `wanted` ones. */
static long may_open(long wanted) {
    struct rlimit limit;
    testing_check(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    if (limit.rlim_cur < (rlim_t)wanted + 50) {
        limit.rlim_cur =
            limit.rlim_max < (rlim_t)wanted + 50 ? limit.rlim_max : (rlim_t)wanted + 50;
        testing_check(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    }
    return (long)limit.rlim_cur - 50 < wanted ? (long)limit.rlim_cur - 50 : wanted;
}

typedef struct many {
    long count; /* of pairs */
    int (*ends)[2];
    long done;
} many;

/* Answers what it is sent, three times. */
static void *answer(void *arg) {
    int fd = *(const int *)arg;
    char byte;
    for (int i = 0; i < 3; i++) {
        ck_assert_status(mtask_io_read(fd, &byte, 1, NULL, LONG), MTASK_OK);
        byte++;
        ck_assert_status(mtask_io_write(fd, &byte, 1, NULL, LONG), MTASK_OK);
    }
    ck_assert_status(mtask_io_read(fd, &byte, 1, NULL, LONG), MTASK_CLOSED);
    end_fd(fd);
    return arg;
}

static void *ask_many(void *arg) {
    many *self = (many *)arg;
    mtask_taskgroup group;
    ck_assert_status(mtask_taskgroup_begin(&group), MTASK_OK);
    for (long i = 0; i < self->count; i++) {
        open_pair(self->ends[i]);
        ck_assert_status(mtask_taskgroup_go(&group, answer, &self->ends[i][1], NULL), MTASK_OK);
    }
    take_turns();
    for (char round = 0; round < 3; round++) {
        for (long i = 0; i < self->count; i++)
            ck_assert_status(mtask_io_write(self->ends[i][0], &round, 1, NULL, LONG), MTASK_OK);
        for (long i = self->count - 1; i >= 0; i--) {
            char byte = 0;
            ck_assert_status(mtask_io_read(self->ends[i][0], &byte, 1, NULL, LONG), MTASK_OK);
            ck_assert_int_eq(byte, round + 1);
        }
    }
    for (long i = 0; i < self->count; i++)
        end_fd(self->ends[i][0]);
    ck_assert_status(mtask_taskgroup_end(&group, NULL), MTASK_OK);
    return arg;
}

START_TEST(a_thousand_descriptors_are_waited_for_at_once) {
    many self = {.count = may_open(TESTING_TSAN || TESTING_ASAN ? 300 : 1000) / 2};
    int before = count_fds();
    self.ends = (int(*)[2])calloc((size_t)self.count, sizeof *self.ends);
    testing_check(self.ends != NULL);
    (void)in_loop(ask_many, &self);
    free(self.ends);
    ck_assert_int_eq(count_fds(), before);
}
END_TEST

static void *use_high_numbers(void *arg) {
    long high = may_open(60000);
    int low[2], ends[2];
    plain_pair(low);
    ends[0] = fcntl(low[0], F_DUPFD, (int)high - 2);
    ends[1] = fcntl(low[1], F_DUPFD, (int)high - 1);
    testing_check(ends[0] >= high - 2 && ends[1] >= high - 1);
    end_plain(low);
    adopt_both(ends);
    use_new(ends);
    use_new(ends);
    end_fds(ends);
    return arg;
}

START_TEST(numbers_may_be_high) {
    everywhere(use_high_numbers, NULL);
}
END_TEST

static void *choose_of_many(void *arg) {
    long pairs = may_open(2000) / 2;
    int(*ends)[2] = (int(*)[2])calloc((size_t)pairs, sizeof *ends);
    mtask_io_case *cases = (mtask_io_case *)calloc((size_t)pairs, sizeof *cases);
    testing_check(ends != NULL && cases != NULL);
    for (long i = 0; i < pairs; i++) {
        open_pair(ends[i]);
        cases[i] = (mtask_io_case){ends[i][0], MTASK_IO_READ, 0};
    }
    for (long at = 0; at < pairs; at += pairs / 2) {
        ck_assert_status(mtask_io_select(cases, (size_t)pairs, MTASK_US(10)), MTASK_TIMEOUT);
        feed(ends[at][1], "x");
        ck_assert_status(mtask_io_select(cases, (size_t)pairs, LONG), MTASK_OK);
        for (long i = 0; i < pairs; i++)
            ck_assert_uint_eq(cases[i].ready, i == at ? MTASK_IO_READ : 0);
        check_fed(ends[at][0], "x");
    }
    for (long i = 0; i < pairs; i++)
        end_fds(ends[i]);
    free(cases);
    free(ends);
    return arg;
}

START_TEST(there_may_be_a_thousand_to_choose_from) {
    everywhere(choose_of_many, NULL);
}
END_TEST

/* ---- all together ---- */

enum { LINES = 4, USERS = 3 };

/* A few pairs of sockets; on each, writers and readers on loops and in threads, that now and then
   have too little time, and waits that are cancelled. What was written is read. */
typedef struct throng {
    int ends[LINES][2];
    uint64_t seed;
    int64_t start;
    mtask_word user;
    mtask_word writing; /* writers that are left */
    long written, read;
} throng;

static int64_t some_time(testing_random *random) {
    static const int64_t times[] = {MTASK_NOWAIT, MTASK_US(1), MTASK_US(100), MTASK_MS(5)};
    return times[testing_below(random, 4)];
}

static void *write_some(void *arg) {
    throng *self = (throng *)arg;
    testing_random random = testing_random_make(self->seed, mtask_word_add(&self->user, 1));
    char bytes[3000] = "";
    while (mtask_now() - self->start < MTASK_MS(80)) {
        int fd = self->ends[testing_below(&random, LINES)][1];
        size_t count = 0, size = 1 + testing_below(&random, sizeof bytes);
        mtask_status status = mtask_io_write(fd, bytes, size, &count, some_time(&random));
        testing_check(status == MTASK_OK ? count == size : status == MTASK_TIMEOUT && count < size);
        __atomic_add_fetch(&self->written, (long)count, __ATOMIC_RELAXED);
    }
    if (mtask_word_add(&self->writing, (mtask_word)-1) == 1)
        for (int i = 0; i < LINES; i++) /* the readers come to the end */
            testing_check(shutdown(self->ends[i][1], SHUT_WR) == 0);
    return arg;
}

static void *read_some(void *arg) {
    throng *self = (throng *)arg;
    testing_random random = testing_random_make(self->seed, mtask_word_add(&self->user, 1));
    bool ended[LINES] = {false};
    char bytes[3000];
    for (int left = LINES; left > 0;) {
        uint64_t line = testing_below(&random, LINES);
        size_t count = 0, size = 1 + testing_below(&random, sizeof bytes);
        mtask_status status =
            mtask_io_read(self->ends[line][0], bytes, size, &count, some_time(&random));
        testing_check((status == MTASK_OK && count > 0 && count <= size) || count == 0);
        testing_check(status == MTASK_OK || status == MTASK_TIMEOUT || status == MTASK_CLOSED);
        __atomic_add_fetch(&self->read, (long)count, __ATOMIC_RELAXED);
        if (status == MTASK_CLOSED && !ended[line]) {
            ended[line] = true;
            left--;
        }
    }
    return arg;
}

/* Waits that are cancelled all the time, and take nothing. */
static void *wait_and_be_cancelled(void *arg) {
    throng *self = (throng *)arg;
    testing_random random = testing_random_make(self->seed, mtask_word_add(&self->user, 1));
    while (mtask_word_load(&self->writing) > 0) {
        mtask_limit limit;
        mtask_status status;
        int fd = self->ends[testing_below(&random, LINES)][testing_below(&random, 2)];
        ck_assert_status(mtask_limit_begin(&limit, (int64_t)testing_below(&random, 50000)),
                         MTASK_OK);
        status = mtask_io_wait(fd, 1 + (unsigned)testing_below(&random, 3), LONG);
        testing_check(status == MTASK_OK || status == MTASK_CANCELED);
        (void)mtask_limit_end(&limit);
        linger();
    }
    return arg;
}

static void *use_lines(void *arg) {
    mtask_call users[2 * USERS + 1];
    for (int i = 0; i < USERS; i++) {
        users[i] = (mtask_call){write_some, arg};
        users[USERS + i] = (mtask_call){read_some, arg};
    }
    users[2 * USERS] = (mtask_call){wait_and_be_cancelled, arg};
    ck_assert_status(mtask_gather(users, 2 * USERS + 1, NULL), MTASK_OK);
    return arg;
}

static void join_throng(testing_member *self) {
    if (self->index < 2)
        (void)in_loop(use_lines, self->arg);
    else if (self->index == 2)
        (void)write_some(self->arg);
    else
        (void)read_some(self->arg);
}

START_TEST(many_tasks_and_threads_share_a_few_descriptors) {
    throng self;
    testing_crowd crowd;
    memset(&self, 0, sizeof self);
    self.seed = testing_seed();
    self.start = mtask_now();
    self.writing = 2 * USERS + 1;
    for (int i = 0; i < LINES; i++)
        open_pair(self.ends[i]);
    testing_crowd_start(&crowd, 4, join_throng, &self);
    testing_crowd_join(&crowd);
    ck_assert_int_eq(self.written, self.read);
    ck_assert_int_gt(self.read, 0);
    for (int i = 0; i < LINES; i++)
        end_fds(self.ends[i]);
}
END_TEST

/* ---- nothing is left ---- */

static void use_a_bit_of_all(void) {
    for (int i = 0; i < KINDS; i++) {
        (void)in_loop(read_to_the_end, (void *)&kinds[i]);
        (void)in_thread(read_to_the_end, (void *)&kinds[i]);
        play_transfer(&kinds[i], i % 3, (place)(i % PLACES));
        play_choice(close_one, (place)(i % PLACES), i % SOME);
    }
}

static void wait_for_one_byte(testing_member *self) {
    (void)wait_for_byte(self->arg);
}

/* Some that sleeping threads need are kept for the next ones. */
static void have_eight_threads_wait(void) {
    testing_crowd crowd;
    int ends[2];
    open_pipe(ends);
    testing_crowd_start(&crowd, 8, wait_for_one_byte, &ends[0]);
    testing_crowd_await_asleep(&crowd, 8);
    feed(ends[1], "12345678");
    testing_crowd_join(&crowd);
    end_fds(ends);
}

START_TEST(no_descriptor_is_left_open) {
    int before;
    have_eight_threads_wait();
    use_a_bit_of_all();
    before = count_fds();
    use_a_bit_of_all();
    ck_assert_int_eq(count_fds(), before);
}
END_TEST

TESTING_MAIN(
    "io", what_is_there_needs_no_wait, without_time_to_wait_it_is_told_that_it_would_have_to,
    to_move_nothing_needs_no_wait, no_parts_are_no_bytes,
    nobody_has_to_ask_how_many_bytes_were_moved, the_end_of_the_input_stays,
    who_waits_hears_that_the_other_end_is_gone, negative_timeouts_are_refused,
    a_closed_descriptor_is_refused, a_descriptor_that_was_waited_for_is_refused_once_closed,
    too_many_parts_and_unknown_events_are_refused, the_wrong_end_of_a_pipe_is_refused,
    a_timeout_leaves_the_descriptor_as_it_is, what_came_after_a_wait_needs_no_further_one,
    a_call_waits_until_it_can_go_on, a_call_waits_on_if_others_were_faster,
    a_call_that_must_not_park_blocks_the_loop, a_call_that_must_not_park_keeps_its_time,
    a_signal_does_not_end_a_call, cancellation_ends_a_call_and_stays, a_limit_ends_a_call,
    a_shield_holds_cancellation_off, a_call_that_is_cancelled_as_it_becomes_ready_loses_nothing,
    a_function_that_was_posted_must_not_wait, a_loop_tells_which_descriptor_a_task_waits_for,
    who_waits_for_a_descriptor_is_in_no_dead_lock,
    the_descriptor_of_a_loop_tells_what_its_tasks_wait_for, who_waits_hears_that_it_is_closed,
    who_waits_without_parking_hears_that_it_is_closed, a_function_that_was_posted_may_close,
    any_descriptor_can_be_closed_once, all_who_wait_hear_that_it_is_closed,
    all_who_wait_hear_that_it_is_ready, several_readers_share_what_comes,
    a_byte_satisfies_one_of_the_readers_of_a_loop, one_may_read_while_another_writes,
    a_number_can_be_used_again_at_once, numbers_are_used_again_and_again,
    descriptors_of_others_are_closed_as_one_likes, a_number_tells_nothing_of_who_had_it_before,
    a_copy_is_a_descriptor_of_its_own, what_comes_together_is_told_to_those_who_still_wait,
    who_was_woken_too_late_reads_nothing_of_another_descriptor,
    descriptors_of_others_keep_their_mode,
    descriptors_that_mtask_makes_neither_block_nor_outlive_exec, a_descriptor_can_be_handed_over,
    a_hang_up_is_told_in_both_directions, a_reset_breaks_the_connection,
    no_sigpipe_ends_the_program, a_sigpipe_that_was_pending_stays, no_handler_hears_of_a_sigpipe,
    all_of_it_is_written_however_much_it_is, a_timeout_tells_how_much_was_written,
    without_time_to_wait_what_fits_is_written, a_cancelled_write_tells_how_much_was_written,
    a_broken_write_tells_how_much_was_written, there_may_be_1024_parts,
    a_message_of_many_parts_stays_one, parts_are_filled_in_their_order,
    any_part_of_a_file_can_be_sent, a_file_may_be_longer_than_32_bits_count,
    files_can_be_sent_into_files, what_has_no_offsets_cannot_be_sent_as_a_file,
    files_are_always_ready, devices_are_read_and_written, a_terminal_is_read_line_by_line,
    a_terminal_that_shows_much_blocks_no_loop, a_choice_tells_all_that_is_ready,
    a_choice_of_both_directions, any_of_a_choice_ends_the_wait, a_choice_of_none_waits,
    what_cannot_be_chosen_is_refused, errno_is_a_tasks_own, who_never_has_to_wait_lets_others_run,
    who_reads_from_what_is_full_lets_others_run, after_a_fork_both_go_on,
    a_thread_waits_on_while_another_one_forks, a_thousand_descriptors_are_waited_for_at_once,
    numbers_may_be_high, there_may_be_a_thousand_to_choose_from,
    many_tasks_and_threads_share_a_few_descriptors, no_descriptor_is_left_open)
