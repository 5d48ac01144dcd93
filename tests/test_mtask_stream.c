/* test_mtask_stream.c - buffered streams: lines, marks and pieces however the input is cut, limits,
   ends and errors; writes that are held back, sent, pressed back or cut short; closing
   testing-ldflags: -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=free */
#include "testing_io.h"

#include "../mtask_queue.h"

#include <malloc.h>
#include <netinet/tcp.h>
#include <termios.h>

/* Longer than any test takes: what ends such a wait is not the time. */
#define LONG MTASK_SEC(100000)

#define COUNT_OF(array) (sizeof(array) / sizeof(array)[0])

/* A text that may hold zeroes, and its size. */
#define TEXT(text) text, sizeof(text) - 1

/* A test of which all is said twice: in a plain thread, and in a task of a loop. */
#define EVERYWHERE(name)                                                                           \
 static void name##_body(void);                                                                    \
 static void *name##_flow(void *arg) {                                                             \
  name##_body();                                                                                   \
  return arg;                                                                                      \
 }                                                                                                 \
 START_TEST(name) {                                                                                \
  everywhere(name##_flow, NULL);                                                                   \
 }                                                                                                 \
 END_TEST                                                                                          \
 static void name##_body(void)

/* ---- how much memory is in use ---- */

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *memory, size_t size);
void __real_free(void *memory);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *memory, size_t size);
void __wrap_free(void *memory);

static long live_bytes; /* of blocks that were not freed */
static long most_bytes; /* that there ever were */

static void note_bytes(const void *memory, int sign) {
    long size = memory == NULL ? 0 : sign * (long)malloc_usable_size((void *)memory);
    long now = __atomic_add_fetch(&live_bytes, size, __ATOMIC_SEQ_CST);
    long most = __atomic_load_n(&most_bytes, __ATOMIC_SEQ_CST);
    while (now > most && !__atomic_compare_exchange_n(&most_bytes, &most, now, false,
                                                      __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {
    }
}

void *__wrap_malloc(size_t size) {
    void *made = __real_malloc(size);
    note_bytes(made, 1);
    return made;
}

void *__wrap_calloc(size_t count, size_t size) {
    void *made = __real_calloc(count, size);
    note_bytes(made, 1);
    return made;
}

void *__wrap_realloc(void *memory, size_t size) {
    void *made;
    note_bytes(memory, -1);
    made = __real_realloc(memory, size);
    note_bytes(made == NULL && size > 0 ? memory : made, 1);
    return made;
}

void __wrap_free(void *memory) {
    note_bytes(memory, -1);
    __real_free(memory);
}

static long used_bytes(void) {
    return __atomic_load_n(&live_bytes, __ATOMIC_SEQ_CST);
}

/* Begins to look for the most bytes in use anew; how many are in use now. */
static long watch_bytes(void) {
    long now = used_bytes();
    __atomic_store_n(&most_bytes, now, __ATOMIC_SEQ_CST);
    return now;
}

static long most_used_bytes(void) {
    return __atomic_load_n(&most_bytes, __ATOMIC_SEQ_CST);
}

/* ---- streams, and what is at their other end ---- */

/* A stream, and the descriptor at its other end. */
typedef struct conn {
    mtask_stream *stream;
    int peer; /* -1: closed */
} conn;

static mtask_stream *open_stream(int fd, const mtask_stream_desc *desc) {
    mtask_stream *made = NULL;
    ck_assert_status(mtask_stream_open(&made, fd, desc), MTASK_OK);
    testing_check(made != NULL);
    ck_assert_int_eq(mtask_stream_fd(made), fd);
    return made;
}

static conn open_conn_of(void (*open_ends)(int ends[2]), const mtask_stream_desc *desc) {
    conn made;
    int ends[2];
    open_ends(ends);
    made.stream = open_stream(ends[0], desc);
    made.peer = ends[1];
    return made;
}

static conn open_conn(const mtask_stream_desc *desc) {
    return open_conn_of(open_pair, desc);
}

/* One with buffers of so many bytes, and pieces of at most `limit`; 0: the default. */
static conn open_conn_with(size_t buffer, size_t limit) {
    mtask_stream_desc desc = {.buffer = buffer, .limit = limit};
    return open_conn(&desc);
}

/* Closes the other end. */
static void hang_up(conn *c) {
    end_fd(c->peer);
    c->peer = -1;
}

static void end_conn(conn *c) {
    mtask_stream_destroy(c->stream);
    if (c->peer >= 0)
        end_fd(c->peer);
}

/* Writes bytes, for which there is room, past mtask. */
static void feed_bytes(int fd, const void *data, size_t size) {
    testing_check(size == 0 || write(fd, data, size) == (ssize_t)size);
}

/* Fails the test unless the other end is told of an end now, past mtask. */
static void check_fed_end(int fd) {
    char byte;
    testing_check(read(fd, &byte, 1) == 0);
}

/* Fails the test unless there is nothing to read now at the other end. */
static void check_fed_nothing(int fd) {
    ck_assert_int_eq(polled(fd, POLLIN), 0);
}

static void check_bytes(const void *got, size_t got_size, const void *text, size_t size) {
    ck_assert_uint_eq(got_size, size);
    testing_check(size == 0 || memcmp(got, text, size) == 0);
}

/* Fills, and fails the test unless this is what is in the buffer then. */
static void check_fill_for(mtask_stream *stream, size_t least, int64_t timeout,
                           mtask_status expected, const char *text) {
    const char *data = (const char *)&text;
    size_t size = 12345;
    ck_assert_status(mtask_stream_fill(stream, least, &data, &size, timeout), expected);
    check_bytes(data, size, text, strlen(text));
}

static void check_fill(mtask_stream *stream, size_t least, mtask_status expected,
                       const char *text) {
    check_fill_for(stream, least, expected == MTASK_TIMEOUT ? MTASK_NOWAIT : LONG, expected, text);
}

static void check_until(mtask_stream *stream, const char *mark, mtask_status expected,
                        const char *text) {
    const char *data = (const char *)&text;
    size_t size = 12345;
    int64_t timeout = expected == MTASK_TIMEOUT ? MTASK_NOWAIT : LONG;
    ck_assert_status(mtask_stream_read_until(stream, mark, strlen(mark), &data, &size, timeout),
                     expected);
    check_bytes(data, size, text, strlen(text));
}

/* Reads a line, which has to be this one. */
static void check_line_of(mtask_stream *stream, const char *text, size_t length) {
    char *line = NULL;
    size_t size = 12345;
    ck_assert_status(mtask_stream_read_line(stream, &line, &size, LONG), MTASK_OK);
    testing_check(line != NULL);
    check_bytes(line, size, text, length);
    ck_assert_int_eq(line[size], 0);
    memset(line, '#', size); /* it is ours */
}

static void check_line(mtask_stream *stream, const char *text) {
    check_line_of(stream, text, strlen(text));
}

static void check_no_line_for(mtask_stream *stream, int64_t timeout, mtask_status expected) {
    char *line = (char *)&timeout;
    ck_assert_status(mtask_stream_read_line(stream, &line, NULL, timeout), expected);
    ck_assert_ptr_null(line);
}

static void check_no_line(mtask_stream *stream, mtask_status expected) {
    check_no_line_for(stream, expected == MTASK_TIMEOUT ? MTASK_NOWAIT : LONG, expected);
}

/* Reads what there is, which has to be this. */
static void check_read(mtask_stream *stream, size_t capacity, const char *text) {
    char got[256];
    size_t count = 12345;
    testing_check(capacity <= sizeof got);
    ck_assert_status(mtask_stream_read(stream, got, capacity, &count, LONG), MTASK_OK);
    check_bytes(got, count, text, strlen(text));
}

/* Reads `wanted` bytes exactly; fails the test unless it gets these. */
static void check_exactly(mtask_stream *stream, size_t wanted, mtask_status expected,
                          const char *text) {
    char got[256];
    size_t count = 12345;
    int64_t timeout = expected == MTASK_TIMEOUT ? MTASK_NOWAIT : LONG;
    testing_check(wanted <= sizeof got);
    ck_assert_status(mtask_stream_read_exactly(stream, got, wanted, &count, timeout), expected);
    check_bytes(got, count, text, strlen(text));
}

/* Fails the test unless the stream tells of the end of its input, and goes on to do so. */
static void check_end(mtask_stream *stream) {
    for (int i = 0; i < 2; i++) {
        char byte;
        size_t count = 12345;
        ck_assert_status(mtask_stream_read(stream, &byte, 1, &count, LONG), MTASK_CLOSED);
        ck_assert_uint_eq(count, 0);
        check_fill(stream, 1, MTASK_CLOSED, "");
        check_until(stream, "\n", MTASK_CLOSED, "");
        check_exactly(stream, 1, MTASK_CLOSED, "");
        check_no_line(stream, MTASK_CLOSED);
        ck_assert(mtask_stream_at_eof(stream));
    }
}

static void write_text(mtask_stream *stream, const char *text) {
    ck_assert_status(mtask_stream_write(stream, text, strlen(text), LONG), MTASK_OK);
}

static void drain(mtask_stream *stream) {
    ck_assert_status(mtask_stream_drain(stream, LONG), MTASK_OK);
    ck_assert_uint_eq(mtask_stream_pending(stream), 0);
}

/* Sends a byte, which has to end like this, at once or when it is drained. */
static void check_sent(mtask_stream *stream, mtask_status expected) {
    mtask_status status = mtask_stream_write(stream, "x", 1, LONG);
    if (status == MTASK_OK)
        status = mtask_stream_drain(stream, LONG);
    ck_assert_status(status, expected);
}

/* Reads and drops bytes at the other end until there were `size`; they have to be of the pattern
   from `offset` on. Waits for them. */
static void take_pattern(int fd, size_t offset, size_t size) {
    char bytes[4096];
    for (size_t done = 0, count = 0; done < size; done += count) {
        size_t room = size - done < sizeof bytes ? size - done : sizeof bytes;
        ck_assert_status(mtask_io_read(fd, bytes, room, &count, LONG), MTASK_OK);
        check_pattern(bytes, offset + done, count);
    }
}

/* ---- what runs beside a test: a task of its loop, or a thread ---- */

typedef struct aside {
    flow flow;
    mtask_future *task; /* NULL: a thread */
    pthread_t thread;
} aside;

static void begin(aside *other, mtask_fn fn, void *arg) {
    memset(other, 0, sizeof *other);
    other->flow.fn = fn;
    other->flow.arg = arg;
    if (mtask_loop_current() != NULL)
        other->task = go(flow_main, &other->flow);
    else
        testing_check(pthread_create(&other->thread, NULL, flow_main, &other->flow) == 0);
}

/* The same; returns when the other one waits, or has ended. */
static void begin_waiting(aside *other, mtask_fn fn, void *arg) {
    begin(other, fn, arg);
    await_flow(&other->flow);
}

static void *finish(aside *other) {
    if (other->task != NULL)
        (void)take(other->task);
    else
        testing_check(pthread_join(other->thread, NULL) == 0);
    return other->flow.value;
}

/* Fails the test unless the flow returned this status. */
static void finish_with(aside *other, mtask_status expected) {
    ck_assert_status((mtask_status)(long)finish(other), expected);
}

static void *as_result(mtask_status status) {
    return (void *)(long)status;
}

/* ---- fill and skip ---- */

EVERYWHERE(fill_shows_what_has_come_and_takes_nothing) {
    conn c = open_conn(NULL);
    feed(c.peer, "hello");
    check_fill(c.stream, 1, MTASK_OK, "hello");
    check_fill(c.stream, 5, MTASK_OK, "hello");
    feed(c.peer, " you");
    check_fill(c.stream, 6, MTASK_OK, "hello you");
    ck_assert_status(mtask_stream_skip(c.stream, 2), MTASK_OK);
    check_fill(c.stream, 1, MTASK_OK, "llo you");
    ck_assert_status(mtask_stream_skip(c.stream, 8), MTASK_INVALID);
    check_fill(c.stream, 0, MTASK_OK, "llo you");
    ck_assert_status(mtask_stream_skip(c.stream, 0), MTASK_OK);
    ck_assert_status(mtask_stream_skip(c.stream, 7), MTASK_OK);
    ck_assert_status(mtask_stream_skip(c.stream, 1), MTASK_INVALID);
    check_fill(c.stream, 1, MTASK_TIMEOUT, "");
    end_conn(&c);
}

EVERYWHERE(fill_that_ends_early_shows_what_is_there) {
    conn c = open_conn_with(0, 16);
    check_fill(c.stream, 4, MTASK_TIMEOUT, "");
    feed(c.peer, "abc");
    check_fill(c.stream, 4, MTASK_TIMEOUT, "abc");
    check_fill_for(c.stream, 4, MTASK_MS(1), MTASK_TIMEOUT, "abc");
    check_fill(c.stream, 17, MTASK_OVERFLOW, "abc");
    feed(c.peer, "d");
    check_fill(c.stream, 4, MTASK_OK, "abcd");
    hang_up(&c);
    check_fill(c.stream, 5, MTASK_CLOSED, "abcd");
    ck_assert(!mtask_stream_at_eof(c.stream));
    check_fill(c.stream, 4, MTASK_OK, "abcd");
    ck_assert_status(mtask_stream_skip(c.stream, 4), MTASK_OK);
    check_end(c.stream);
    end_conn(&c);
}

EVERYWHERE(a_view_of_any_size_up_to_the_limit_can_be_filled) {
    static char text[3001];
    conn c = open_conn_with(64, 3000);
    memset(text, 'x', sizeof text - 1);
    for (size_t size = 1; size <= 3000; size += size < 200 ? 1 : 100) {
        const char *data;
        size_t got;
        feed_bytes(c.peer, text, size);
        ck_assert_status(mtask_stream_fill(c.stream, size, &data, &got, LONG), MTASK_OK);
        check_bytes(data, got, text, size);
        ck_assert_status(mtask_stream_skip(c.stream, size), MTASK_OK);
    }
    end_conn(&c);
}

EVERYWHERE(a_view_stays_until_the_next_read) {
    static char more[1000];
    mtask_stream_desc desc = {.buffer = 256};
    conn c = open_conn(&desc);
    const char *data, *first;
    size_t size;
    memset(more, 'm', sizeof more);
    for (int kind = 0; kind < 3; kind++) {
        feed(c.peer, "what was read\n");
        if (kind == 0)
            ck_assert_status(mtask_stream_fill(c.stream, 14, &data, &size, LONG), MTASK_OK);
        else if (kind == 1)
            ck_assert_status(mtask_stream_read_until(c.stream, "\n", 1, &data, &size, LONG),
                             MTASK_OK);
        else
            ck_assert_status(mtask_stream_read_line(c.stream, (char **)&data, &size, LONG),
                             MTASK_OK);
        first = data;
        feed_bytes(c.peer, more, sizeof more);
        ck_assert_status(mtask_stream_write(c.stream, more, sizeof more, LONG), MTASK_OK);
        ck_assert_status(mtask_stream_printf(c.stream, LONG, "%.*s", (int)size, first), MTASK_OK);
        linger();
        drain(c.stream);
        ck_assert(!mtask_stream_at_eof(c.stream));
        testing_check(memcmp(first, "what was read", 13) == 0);
        for (size_t left = sizeof more + (kind == 0 ? 14 : 0); left > 0; left -= size) {
            ck_assert_status(mtask_stream_fill(c.stream, 1, &data, &size, LONG), MTASK_OK);
            ck_assert_status(mtask_stream_skip(c.stream, size), MTASK_OK);
        }
        testing_check(drain_fd(c.peer) > sizeof more);
    }
    end_conn(&c);
}

/* ---- read, read_exactly ---- */

EVERYWHERE(read_takes_what_there_is) {
    char byte = 'x';
    size_t count = 12345;
    conn c = open_conn_with(16, 3);
    ck_assert_status(mtask_stream_read(c.stream, &byte, 1, &count, MTASK_NOWAIT), MTASK_TIMEOUT);
    ck_assert_uint_eq(count, 0);
    feed(c.peer, "line1\nline2\n"); /* neither lines nor the limit matter */
    check_read(c.stream, 5, "line1");
    check_read(c.stream, 256, "\nline2\n");
    ck_assert_status(mtask_stream_read(c.stream, &byte, 0, &count, LONG), MTASK_OK);
    ck_assert_uint_eq(count, 0);
    feed(c.peer, "end");
    hang_up(&c);
    ck_assert_status(mtask_stream_read(c.stream, &byte, 1, NULL, LONG), MTASK_OK);
    ck_assert_int_eq(byte, 'e');
    check_read(c.stream, 256, "nd");
    check_end(c.stream);
    end_conn(&c);
}

EVERYWHERE(read_exactly_gets_all_or_tells_how_much) {
    conn c = open_conn_with(0, 3);
    check_exactly(c.stream, 0, MTASK_OK, "");
    feed(c.peer, "abcdefg");
    check_exactly(c.stream, 5, MTASK_OK, "abcde");
    check_exactly(c.stream, 5, MTASK_TIMEOUT, "fg"); /* these are out now */
    check_exactly(c.stream, 5, MTASK_TIMEOUT, "");
    feed(c.peer, "hij");
    check_exactly(c.stream, 3, MTASK_OK, "hij");
    feed(c.peer, "kl");
    hang_up(&c);
    check_exactly(c.stream, 1, MTASK_OK, "k");
    check_exactly(c.stream, 5, MTASK_CLOSED, "l");
    check_end(c.stream);
    end_conn(&c);
}

/* Sends so many bytes of the pattern, in pieces, and hangs up. */
typedef struct sender {
    int fd;
    size_t size;
} sender;

static void *send_pattern(void *arg) {
    sender *self = (sender *)arg;
    char bytes[5000];
    for (size_t done = 0, piece; done < self->size; done += piece) {
        piece = self->size - done < sizeof bytes ? self->size - done : sizeof bytes;
        make_pattern(bytes, done, piece);
        ck_assert_status(mtask_io_write(self->fd, bytes, piece, NULL, LONG), MTASK_OK);
    }
    end_fd(self->fd);
    return arg;
}

EVERYWHERE(read_exactly_is_bound_by_no_buffer_and_no_limit) {
    enum { SIZE = 300000 };
    aside feeder;
    conn c = open_conn_with(4096, 100);
    sender all = {c.peer, 3 + SIZE + 10};
    char *bytes = (char *)malloc(SIZE), first[3];
    size_t count;
    testing_check(bytes != NULL);
    begin(&feeder, send_pattern, &all);
    ck_assert_status(mtask_stream_read_exactly(c.stream, first, 3, NULL, LONG), MTASK_OK);
    check_pattern(first, 0, 3);
    ck_assert_status(mtask_stream_read_exactly(c.stream, bytes, SIZE, &count, LONG), MTASK_OK);
    ck_assert_uint_eq(count, SIZE);
    check_pattern(bytes, 3, SIZE);
    ck_assert_status(mtask_stream_read_exactly(c.stream, bytes, SIZE, &count, LONG), MTASK_CLOSED);
    ck_assert_uint_eq(count, 10);
    check_pattern(bytes, 3 + SIZE, 10);
    (void)finish(&feeder);
    free(bytes);
    mtask_stream_destroy(c.stream);
}

/* ---- read_until ---- */

EVERYWHERE(marks_are_found_however_they_are_cut) {
    conn c = open_conn(NULL);
    feed(c.peer, "AABBCC");
    check_until(c.stream, "BB", MTASK_OK, "AABB");
    check_until(c.stream, "BB", MTASK_TIMEOUT, "CC");
    feed(c.peer, "B");
    check_until(c.stream, "BB", MTASK_TIMEOUT, "CCB");
    feed(c.peer, "B");
    check_until(c.stream, "BB", MTASK_OK, "CCBB");
    feed(c.peer, "QWERaa"); /* a mark that begins as it goes on */
    check_until(c.stream, "aaa", MTASK_TIMEOUT, "QWERaa");
    feed(c.peer, "XYAAaa");
    check_until(c.stream, "aaa", MTASK_TIMEOUT, "QWERaaXYAAaa");
    feed(c.peer, "a");
    check_until(c.stream, "aaa", MTASK_OK, "QWERaaXYAAaaa");
    feed(c.peer, "aaaab");
    check_until(c.stream, "aab", MTASK_OK, "aaaab");
    feed(c.peer, "mark first");
    check_until(c.stream, "mark", MTASK_OK, "mark");
    check_until(c.stream, "t", MTASK_OK, " first");
    end_conn(&c);
}

EVERYWHERE(what_follows_a_mark_stays) {
    conn c = open_conn(NULL);
    feed(c.peer, "head\r\n\r\nbody");
    check_until(c.stream, "\r\n\r\n", MTASK_OK, "head\r\n\r\n");
    check_fill(c.stream, 1, MTASK_OK, "body");
    check_until(c.stream, "d", MTASK_OK, "bod");
    check_exactly(c.stream, 1, MTASK_OK, "y");
    end_conn(&c);
}

EVERYWHERE(without_its_mark_the_rest_of_the_input_stays) {
    conn c = open_conn(NULL);
    feed(c.peer, "some dataA");
    hang_up(&c);
    check_until(c.stream, "AA", MTASK_CLOSED, "some dataA");
    ck_assert(!mtask_stream_at_eof(c.stream));
    check_until(c.stream, "AA", MTASK_CLOSED, "some dataA");
    check_until(c.stream, "A", MTASK_OK, "some dataA");
    check_end(c.stream);
    end_conn(&c);
}

EVERYWHERE(a_mark_may_hold_zeroes_and_has_at_least_one_byte) {
    const char *data;
    size_t size;
    conn c = open_conn(NULL);
    feed_bytes(c.peer, TEXT("a\0b\0\0c"));
    ck_assert_status(mtask_stream_read_until(c.stream, "\0", 2, &data, &size, LONG), MTASK_OK);
    check_bytes(data, size, TEXT("a\0b\0\0"));
    ck_assert_status(mtask_stream_read_until(c.stream, "c", 0, &data, &size, LONG), MTASK_INVALID);
    check_fill(c.stream, 1, MTASK_OK, "c");
    end_conn(&c);
}

/* ---- lines ---- */

/* Inputs, and the lines that they hold, each with a "|" behind it. */
static const struct {
    const char *input;
    size_t input_size;
    const char *lines;
    size_t lines_size;
} texts[] = {
    {TEXT(""), TEXT("")},
    {TEXT("\n"), TEXT("|")},
    {TEXT("\r\n"), TEXT("|")},
    {TEXT("a"), TEXT("a|")},
    {TEXT("a\n"), TEXT("a|")},
    {TEXT("a\r\n"), TEXT("a|")},
    {TEXT("a\r\r\n"), TEXT("a\r|")},
    {TEXT("a\r"), TEXT("a\r|")},
    {TEXT("\r"), TEXT("\r|")},
    {TEXT("a\rb\n"), TEXT("a\rb|")},
    {TEXT("one\ntwo\r\nthree"), TEXT("one|two|three|")},
    {TEXT("\n\n\r\n\nx\n\n"), TEXT("||||x||")},
    {TEXT("\n\r"), TEXT("|\r|")},
    {TEXT("a\0b\n\0\n\0\0\r\n"), TEXT("a\0b|\0|\0\0|")},
    {TEXT("\0"), TEXT("\0|")},
    {TEXT("sixteen bytes ..\n"), TEXT("sixteen bytes ..|")},
    {TEXT("sixteen bytes .."), TEXT("sixteen bytes ..|")},
    {TEXT("sixteen bytes ...and more"), TEXT("sixteen bytes ...and more|")},
};

static void check_lines(mtask_stream *stream, const char *lines, size_t size) {
    while (size > 0) {
        size_t length = (size_t)((const char *)memchr(lines, '|', size) - lines);
        check_line_of(stream, lines, length);
        lines += length + 1;
        size -= length + 1;
    }
}

EVERYWHERE(lines_end_in_newlines_or_with_the_input) {
    static const size_t buffers[] = {1, 2, 3, 16, 17, 0};
    for (size_t i = 0; i < COUNT_OF(texts); i++)
        for (size_t b = 0; b < COUNT_OF(buffers); b++) {
            conn c = open_conn_with(buffers[b], 0);
            feed_bytes(c.peer, texts[i].input, texts[i].input_size);
            hang_up(&c);
            check_lines(c.stream, texts[i].lines, texts[i].lines_size);
            check_end(c.stream);
            end_conn(&c);
        }
}

EVERYWHERE(a_line_needs_no_place_for_its_size) {
    char *line;
    conn c = open_conn(NULL);
    feed(c.peer, "with a size\nwithout\n");
    check_line(c.stream, "with a size");
    ck_assert_status(mtask_stream_read_line(c.stream, &line, NULL, LONG), MTASK_OK);
    ck_assert_str_eq(line, "without");
    end_conn(&c);
}

EVERYWHERE(half_a_line_waits_for_its_end) {
    conn c = open_conn(NULL);
    feed(c.peer, "chunk1 ");
    check_no_line(c.stream, MTASK_TIMEOUT);
    feed(c.peer, "chunk2 ");
    check_no_line(c.stream, MTASK_TIMEOUT);
    feed(c.peer, "chunk3\r");
    check_no_line(c.stream, MTASK_TIMEOUT);
    feed(c.peer, "\n chunk4");
    check_line(c.stream, "chunk1 chunk2 chunk3");
    check_no_line_for(c.stream, MTASK_MS(1), MTASK_TIMEOUT);
    check_fill(c.stream, 1, MTASK_OK, " chunk4");
    hang_up(&c);
    check_line(c.stream, " chunk4");
    check_end(c.stream);
    end_conn(&c);
}

EVERYWHERE(lines_and_other_reads_take_turns) {
    conn c = open_conn(NULL);
    feed(c.peer, "line one\n5\n\r\n\r\nabc;de");
    check_line(c.stream, "line one");
    check_exactly(c.stream, 3, MTASK_OK, "5\n\r");
    check_line(c.stream, "");
    check_until(c.stream, ";", MTASK_OK, "\r\nabc;");
    check_read(c.stream, 1, "d");
    hang_up(&c);
    check_line(c.stream, "e");
    check_end(c.stream);
    end_conn(&c);
}

/* ---- limits ---- */

EVERYWHERE(a_line_may_be_as_long_as_the_limit) {
    static const size_t buffers[] = {1, 7, 8, 9, 0};
    for (size_t b = 0; b < COUNT_OF(buffers); b++) {
        conn c = open_conn_with(buffers[b], 8);
        feed(c.peer, "12345678\n1234567\r\n12345678\r\n1234567");
        check_line(c.stream, "12345678");
        check_line(c.stream, "1234567");
        check_line(c.stream, "12345678");
        feed(c.peer, "8");
        check_no_line(c.stream, MTASK_TIMEOUT); /* it may end here */
        feed(c.peer, "\r");
        check_no_line(c.stream, MTASK_TIMEOUT);
        feed(c.peer, "\n12345678");
        check_line(c.stream, "12345678");
        hang_up(&c);
        check_line(c.stream, "12345678");
        check_end(c.stream);
        end_conn(&c);
    }
}

/* Inputs in which the first line is too long for a limit of 8. */
static const char *const long_lines[] = {"123456789\nx\n", "123456789\r\nx\n", "123456789",
                                         "12345678\rx",    "12345678\r\r\n",   "123456789x\n\n",
                                         "1234567\r\r\r\n"};

/* Nothing of a line that is too long is lost, and one can pass over it. */
static void check_overflow(size_t buffer, const char *text, size_t cut) {
    size_t size = strlen(text);
    char *line = NULL, got[32];
    mtask_status status;
    conn c = open_conn_with(buffer, 8);
    feed_bytes(c.peer, text, cut);
    status = mtask_stream_read_line(c.stream, &line, NULL, MTASK_NOWAIT);
    ck_assert_ptr_null(line);
    if (status != MTASK_OVERFLOW)
        ck_assert_status(status, MTASK_TIMEOUT);
    feed_bytes(c.peer, text + cut, size - cut);
    check_no_line(c.stream, MTASK_OVERFLOW);
    check_no_line(c.stream, MTASK_OVERFLOW);
    ck_assert_status(mtask_stream_read_exactly(c.stream, got, size, NULL, LONG), MTASK_OK);
    testing_check(memcmp(got, text, size) == 0);
    end_conn(&c);
}

EVERYWHERE(a_longer_line_is_refused_and_stays) {
    static const size_t buffers[] = {1, 8, 9, 10, 0};
    for (size_t b = 0; b < COUNT_OF(buffers); b++)
        for (size_t i = 0; i < COUNT_OF(long_lines); i++)
            for (size_t cut = 0; cut <= strlen(long_lines[i]); cut++)
                check_overflow(buffers[b], long_lines[i], cut);
}

EVERYWHERE(after_a_line_that_is_too_long_the_next_can_be_read) {
    conn c = open_conn_with(0, 7);
    feed(c.peer, "chunk1chunk2\nchunk3\n");
    check_no_line(c.stream, MTASK_OVERFLOW);
    ck_assert_status(mtask_stream_skip(c.stream, 6), MTASK_OK);
    check_line(c.stream, "chunk2");
    check_line(c.stream, "chunk3");
    end_conn(&c);
}

EVERYWHERE(a_limit_bounds_what_stands_before_a_mark) {
    conn c = open_conn_with(0, 3);
    feed(c.peer, "some dataAA");
    check_until(c.stream, "B", MTASK_OVERFLOW, "some dataAA"); /* it has not come */
    check_until(c.stream, "A", MTASK_OVERFLOW, "some dataAA"); /* it has */
    check_exactly(c.stream, 6, MTASK_OK, "some d");
    check_until(c.stream, "AA", MTASK_OK, "ataAA");
    feed(c.peer, "123");
    check_until(c.stream, "::::", MTASK_TIMEOUT, "123");
    feed(c.peer, ":::"); /* these may begin the mark */
    check_until(c.stream, "::::", MTASK_TIMEOUT, "123:::");
    feed(c.peer, "::");
    check_until(c.stream, "::::", MTASK_OK, "123::::");
    feed(c.peer, "......"); /* these may not */
    check_until(c.stream, "::::", MTASK_OVERFLOW, ":......");
    end_conn(&c);
}

EVERYWHERE(lines_are_limited_by_default) {
    enum { SIZE = MTASK_STREAM_LIMIT };
    static char text[SIZE + 1];
    conn c = open_conn(NULL);
    memset(text, 'x', SIZE);
    text[SIZE] = '\n';
    feed_bytes(c.peer, text, sizeof text);
    check_line_of(c.stream, text, SIZE);
    feed_bytes(c.peer, text, SIZE);
    feed(c.peer, "x");
    check_no_line(c.stream, MTASK_OVERFLOW);
    feed(c.peer, "\n");
    check_no_line(c.stream, MTASK_OVERFLOW);
    end_conn(&c);
}

/* ---- the end of the input ---- */

EVERYWHERE(data_come_before_the_end) {
    conn c = open_conn(NULL);
    ck_assert(!mtask_stream_at_eof(c.stream));
    feed(c.peer, "line\nrest");
    hang_up(&c);
    ck_assert(!mtask_stream_at_eof(c.stream));
    check_line(c.stream, "line");
    ck_assert(!mtask_stream_at_eof(c.stream));
    check_exactly(c.stream, 2, MTASK_OK, "re");
    check_until(c.stream, "x", MTASK_CLOSED, "st");
    ck_assert(!mtask_stream_at_eof(c.stream));
    check_read(c.stream, 256, "st");
    check_end(c.stream);
    end_conn(&c);
}

EVERYWHERE(an_input_may_be_empty) {
    conn c = open_conn(NULL);
    hang_up(&c);
    check_end(c.stream);
    end_conn(&c);
}

EVERYWHERE(after_the_end_of_the_input_one_can_write) {
    conn c = open_conn(NULL);
    feed(c.peer, "question");
    testing_check(shutdown(c.peer, SHUT_WR) == 0);
    check_line(c.stream, "question");
    check_end(c.stream);
    write_text(c.stream, "answer");
    drain(c.stream);
    check_fed(c.peer, "answer");
    check_end(c.stream);
    end_conn(&c);
}

EVERYWHERE(the_output_can_end_first) {
    conn c = open_conn(NULL);
    write_text(c.stream, "question");
    ck_assert_status(mtask_stream_shutdown(c.stream, LONG), MTASK_OK);
    check_fed(c.peer, "question");
    check_fed_end(c.peer);
    feed(c.peer, "answer\n");
    check_line(c.stream, "answer");
    check_sent(c.stream, MTASK_BROKEN);
    feed(c.peer, "more");
    hang_up(&c);
    check_line(c.stream, "more");
    check_end(c.stream);
    end_conn(&c);
}

EVERYWHERE(only_a_socket_can_be_shut_down) {
    int ends[2];
    mtask_stream *stream;
    open_pipe(ends);
    stream = open_stream(ends[1], NULL);
    ck_assert_status(mtask_stream_shutdown(stream, LONG), MTASK_UNSUPPORTED);
    write_text(stream, "it still works");
    drain(stream);
    check_fed(ends[0], "it still works");
    mtask_stream_destroy(stream);
    end_fd(ends[0]);
}

EVERYWHERE(a_reset_is_told_after_what_came_before) {
    struct linger at_once = {.l_onoff = 1, .l_linger = 0};
    conn c = open_conn_of(open_tcp, NULL);
    const char *data;
    size_t size;
    feed(c.peer, "half a l");
    check_fill(c.stream, 8, MTASK_OK, "half a l");
    testing_check(setsockopt(c.peer, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once) == 0);
    hang_up(&c);
    check_no_line(c.stream, MTASK_BROKEN);
    ck_assert_int_eq(errno, ECONNRESET);
    for (int i = 0; i < 2; i++) { /* and it stays */
        ck_assert_status(mtask_stream_fill(c.stream, 9, &data, &size, LONG), MTASK_BROKEN);
        check_bytes(data, size, TEXT("half a l"));
    }
    check_exactly(c.stream, 8, MTASK_OK, "half a l");
    check_fill(c.stream, 1, MTASK_BROKEN, "");
    check_sent(c.stream, MTASK_BROKEN);
    end_conn(&c);
}

/* ---- waits that end early ---- */

EVERYWHERE(a_wait_lasts_as_long_as_it_may) {
    static const int64_t limit = MTASK_MS(3);
    conn c = open_conn(NULL);
    int64_t start = mtask_now();
    char byte;
    feed(c.peer, "half");
    check_no_line_for(c.stream, limit, MTASK_TIMEOUT);
    ck_assert_int_ge(mtask_now() - start, limit);
    start = mtask_now();
    check_fill_for(c.stream, 5, limit, MTASK_TIMEOUT, "half");
    ck_assert_int_ge(mtask_now() - start, limit);
    check_exactly(c.stream, 4, MTASK_OK, "half");
    start = mtask_now();
    ck_assert_status(mtask_stream_read(c.stream, &byte, 1, NULL, limit), MTASK_TIMEOUT);
    ck_assert_int_ge(mtask_now() - start, limit);
    end_conn(&c);
}

EVERYWHERE(no_wait_is_negative) {
    char *line, byte;
    const char *data;
    size_t size;
    conn c = open_conn(NULL);
    feed(c.peer, "x\n");
    ck_assert_status(mtask_stream_fill(c.stream, 1, &data, &size, -1), MTASK_INVALID);
    ck_assert_status(mtask_stream_read(c.stream, &byte, 1, &size, -1), MTASK_INVALID);
    ck_assert_status(mtask_stream_read_exactly(c.stream, &byte, 1, &size, -1), MTASK_INVALID);
    ck_assert_status(mtask_stream_read_until(c.stream, "\n", 1, &data, &size, -1), MTASK_INVALID);
    ck_assert_status(mtask_stream_read_line(c.stream, &line, &size, -1), MTASK_INVALID);
    ck_assert_status(mtask_stream_write(c.stream, "x", 1, -1), MTASK_INVALID);
    ck_assert_status(mtask_stream_drain(c.stream, -1), MTASK_INVALID);
    ck_assert_status(mtask_stream_shutdown(c.stream, -1), MTASK_INVALID);
    ck_assert_status(mtask_stream_close(c.stream, -1), MTASK_INVALID);
    check_line(c.stream, "x");
    write_text(c.stream, "y");
    drain(c.stream);
    check_fed(c.peer, "y");
    end_conn(&c);
}

/* A text that comes in two pieces, some time apart. */
typedef struct pieces {
    int fd;
    const char *text[2];
} pieces;

static void *feed_pieces(void *arg) {
    pieces *self = (pieces *)arg;
    for (int i = 0; i < 2; i++) {
        linger();
        feed(self->fd, self->text[i]);
    }
    return arg;
}

EVERYWHERE(what_comes_while_one_waits_is_read) {
    aside feeder;
    conn c = open_conn(NULL);
    pieces two = {c.peer, {"the fi", "rst\nand"}};
    begin(&feeder, feed_pieces, &two);
    check_line(c.stream, "the first");
    check_exactly(c.stream, 3, MTASK_OK, "and");
    (void)finish(&feeder);
    begin(&feeder, feed_pieces, &two);
    check_until(c.stream, "st\na", MTASK_OK, "the first\na");
    check_fill(c.stream, 2, MTASK_OK, "nd");
    check_exactly(c.stream, 2, MTASK_OK, "nd");
    (void)finish(&feeder);
    begin(&feeder, feed_pieces, &two);
    check_exactly(c.stream, 8, MTASK_OK, "the firs");
    check_exactly(c.stream, 5, MTASK_OK, "t\nand");
    (void)finish(&feeder);
    end_conn(&c);
}

static void *read_line_to_be_canceled(void *arg) {
    mtask_stream *stream = (mtask_stream *)arg;
    check_no_line(stream, MTASK_CANCELED);
    ck_assert(mtask_canceled());
    check_no_line(stream, MTASK_CANCELED);
    return arg;
}

static void *cancel_readers(void *arg) {
    conn c = open_conn(NULL);
    for (int i = 0; i < 3; i++) {
        mtask_future *reader = go(read_line_to_be_canceled, c.stream);
        feed(c.peer, "la");
        ck_assert_status(mtask_sleep(MTASK_US(300)), MTASK_OK);
        ck_assert(mtask_future_cancel(reader) == MTASK_OK);
        (void)take(reader);
    }
    feed(c.peer, "st\n");
    check_line(c.stream, "lalalast");
    end_conn(&c);
    return arg;
}

START_TEST(a_canceled_read_loses_nothing) {
    (void)in_loop(cancel_readers, NULL);
}
END_TEST

static void *read_exactly_to_be_canceled(void *arg) {
    conn *c = (conn *)arg;
    check_exactly(c->stream, 6, MTASK_CANCELED, "abcd");
    feed(c->peer, "here");
    check_exactly(c->stream, 4, MTASK_OK, "here"); /* that needs no wait */
    return arg;
}

static void *limit_readers(void *arg) {
    conn c = open_conn(NULL);
    mtask_limit limit;
    feed(c.peer, "abcd");
    ck_assert_status(mtask_with_timeout(MTASK_MS(1), read_exactly_to_be_canceled, &c, NULL),
                     MTASK_TIMEOUT);
    feed(c.peer, "ha");
    ck_assert_status(mtask_limit_begin(&limit, MTASK_MS(1)), MTASK_OK);
    check_no_line(c.stream, MTASK_CANCELED);
    mtask_shield_begin();
    feed(c.peer, "lf\n");
    check_line(c.stream, "half");
    mtask_shield_end();
    ck_assert_status(mtask_limit_end(&limit), MTASK_TIMEOUT);
    end_conn(&c);
    return arg;
}

START_TEST(limits_of_time_cut_reads_short) {
    (void)in_loop(limit_readers, NULL);
}
END_TEST

typedef struct posted_read {
    mtask_loop_call call;
    conn c;
    bool done;
} posted_read;

static void read_on_loops_stack(void *arg) {
    posted_read *self = (posted_read *)arg;
    char byte;
    size_t count;
    ck_assert_status(mtask_stream_read(self->c.stream, &byte, 1, &count, LONG), MTASK_DEADLOCK);
    check_no_line_for(self->c.stream, LONG, MTASK_DEADLOCK);
    check_no_line_for(self->c.stream, MTASK_NOWAIT, MTASK_TIMEOUT);
    feed(self->c.peer, "line\n");
    check_line(self->c.stream, "line");
    write_text(self->c.stream, "text");
    drain(self->c.stream);
    check_fed(self->c.peer, "text");
    self->done = true;
}

static void *post_a_read(void *arg) {
    posted_read self = {.call = {.fn = read_on_loops_stack}};
    self.call.arg = &self;
    self.c = open_conn(NULL);
    ck_assert_status(mtask_loop_post(mtask_loop_current(), &self.call), MTASK_OK);
    while (!self.done)
        take_turns();
    end_conn(&self.c);
    return arg;
}

START_TEST(on_a_loops_own_stack_nothing_waits) {
    (void)in_loop(post_a_read, NULL);
}
END_TEST

static void read_through_signals(testing_member *self) {
    conn *c = (conn *)self->arg;
    check_line(c->stream, "interrupted");
    check_exactly(c->stream, 4, MTASK_OK, "four");
}

START_TEST(signals_do_not_end_a_read) {
    testing_crowd crowd;
    conn c = open_conn(NULL);
    testing_catch_signals();
    testing_crowd_start(&crowd, 1, read_through_signals, &c);
    testing_interrupt(&crowd.members[0]);
    feed(c.peer, "inter");
    testing_interrupt(&crowd.members[0]);
    feed(c.peer, "rupted\nfo");
    testing_interrupt(&crowd.members[0]);
    feed(c.peer, "ur");
    testing_crowd_join(&crowd);
    end_conn(&c);
}
END_TEST

static void idle_reader(testing_member *self) {
    check_line(((conn *)self->arg)->stream, "at last");
}

START_TEST(a_reader_that_waits_uses_no_cpu) {
    testing_crowd crowd;
    conn c = open_conn(NULL);
    testing_crowd_start(&crowd, 1, idle_reader, &c);
    testing_check_idle(&crowd.members[0]);
    feed(c.peer, "at last\n");
    testing_crowd_join(&crowd);
    end_conn(&c);
}
END_TEST

EVERYWHERE(idle_waits_for_input) {
    aside feeder;
    conn c = open_conn(NULL);
    pieces two = {c.peer, {"GET", " /\n"}};
    ck_assert_status(mtask_stream_idle(c.stream, MTASK_NOWAIT), MTASK_TIMEOUT);
    ck_assert_status(mtask_stream_idle(c.stream, MTASK_MS(1)), MTASK_TIMEOUT);
    begin(&feeder, feed_pieces, &two);
    ck_assert_status(mtask_stream_idle(c.stream, LONG), MTASK_OK);
    check_line(c.stream, "GET /");
    (void)finish(&feeder);
    feed(c.peer, "x");
    hang_up(&c);
    ck_assert_status(mtask_stream_idle(c.stream, LONG), MTASK_OK);
    check_line(c.stream, "x");
    ck_assert_status(mtask_stream_idle(c.stream, LONG), MTASK_CLOSED);
    ck_assert_status(mtask_stream_idle(c.stream, -1), MTASK_INVALID);
    end_conn(&c);
}

/* ---- writes that are held back, and when they go out ---- */

EVERYWHERE(little_is_held_back_until_it_is_drained) {
    static const struct iovec parts[] = {{(void *)"one", 3}, {NULL, 0}, {(void *)" two", 4}};
    conn c = open_conn(NULL);
    ck_assert_uint_eq(mtask_stream_pending(c.stream), 0);
    ck_assert_status(mtask_stream_drain(c.stream, MTASK_NOWAIT), MTASK_OK);
    ck_assert_status(mtask_stream_writev(c.stream, parts, 3, MTASK_NOWAIT), MTASK_OK);
    ck_assert_status(mtask_stream_printf(c.stream, MTASK_NOWAIT, " %s%c", "three", '!'), MTASK_OK);
    ck_assert_status(mtask_stream_write(c.stream, " four", 5, MTASK_NOWAIT), MTASK_OK);
    ck_assert_uint_eq(mtask_stream_pending(c.stream), 19);
    check_fed_nothing(c.peer);
    ck_assert_status(mtask_stream_drain(c.stream, MTASK_NOWAIT), MTASK_OK);
    ck_assert_uint_eq(mtask_stream_pending(c.stream), 0);
    check_fed(c.peer, "one two three! four");
    end_conn(&c);
}

EVERYWHERE(nothing_can_be_written) {
    conn c = open_conn(NULL);
    ck_assert_status(mtask_stream_write(c.stream, NULL, 0, MTASK_NOWAIT), MTASK_OK);
    ck_assert_status(mtask_stream_write(c.stream, "", 0, MTASK_NOWAIT), MTASK_OK);
    ck_assert_status(mtask_stream_writev(c.stream, NULL, 0, MTASK_NOWAIT), MTASK_OK);
    ck_assert_status(mtask_stream_printf(c.stream, MTASK_NOWAIT, "%s", ""), MTASK_OK);
    ck_assert_status(mtask_stream_writev(c.stream, NULL, -1, MTASK_NOWAIT), MTASK_INVALID);
    ck_assert_uint_eq(mtask_stream_pending(c.stream), 0);
    drain(c.stream);
    check_fed_nothing(c.peer);
    end_conn(&c);
}

EVERYWHERE(a_text_that_cannot_be_formatted_is_not_written) {
    static const wchar_t not_in_this_locale[] = {0x20ac, 0};
    conn c = open_conn(NULL);
    write_text(c.stream, "before ");
    ck_assert_status(mtask_stream_printf(c.stream, LONG, "text %ls", not_in_this_locale),
                     MTASK_INVALID);
    ck_assert_uint_eq(mtask_stream_pending(c.stream), 7);
    write_text(c.stream, "after");
    drain(c.stream);
    check_fed(c.peer, "before after");
    end_conn(&c);
}

/* Takes what is written at the other end, and checks that it is the pattern. */
typedef struct taker {
    int fd;
    size_t size;
    bool slow;
} taker;

static void *take_all(void *arg) {
    taker *self = (taker *)arg;
    size_t done = 0;
    for (size_t piece; done < self->size; done += piece) {
        piece = self->size - done < 60000 ? self->size - done : 60000;
        if (self->slow)
            linger();
        take_pattern(self->fd, done, piece);
    }
    return arg;
}

enum { LONGEST_TEXT = 100000 };

/* All lengths at first, then some. */
static int longer(int size) {
    return size < 300 ? size + 1 : size * 3 / 2;
}

static void *print_texts(void *arg) {
    mtask_stream *stream = (mtask_stream *)arg;
    static char text[LONGEST_TEXT + 1];
    for (int size = 0; size <= LONGEST_TEXT; size = longer(size)) {
        memset(text, 'x', (size_t)size);
        text[size] = '\0';
        ck_assert_status(mtask_stream_printf(stream, LONG, "%s<%d>\n", text, size), MTASK_OK);
    }
    drain(stream);
    return arg;
}

EVERYWHERE(texts_of_any_length_are_formatted) {
    mtask_stream_desc desc = {.limit = LONGEST_TEXT + 10};
    int ends[2];
    mtask_stream *in, *out;
    aside writer;
    open_pair(ends);
    in = open_stream(ends[0], &desc);
    out = open_stream(ends[1], NULL);
    begin(&writer, print_texts, out);
    for (int size = 0; size <= LONGEST_TEXT; size = longer(size)) {
        char *line;
        ck_assert_status(mtask_stream_read_line(in, &line, NULL, LONG), MTASK_OK);
        ck_assert_uint_eq(strspn(line, "x"), (size_t)size);
        testing_check(line[size] == '<' && atoi(line + size + 1) == size);
    }
    (void)finish(&writer);
    mtask_stream_destroy(in);
    mtask_stream_destroy(out);
}

EVERYWHERE(what_is_held_back_goes_out_before_a_wait_for_input) {
    char got[8];
    const char *data;
    char *line;
    size_t size;
    conn c = open_conn(NULL);
    for (int i = 0; i < 5; i++) {
        write_text(c.stream, "ask");
        check_fed_nothing(c.peer);
        if (i == 0)
            check_fill_for(c.stream, 1, MTASK_US(10), MTASK_TIMEOUT, "");
        else if (i == 1)
            ck_assert_status(mtask_stream_read_line(c.stream, &line, NULL, MTASK_US(10)),
                             MTASK_TIMEOUT);
        else if (i == 2)
            ck_assert_status(mtask_stream_read_until(c.stream, "x", 1, &data, &size, MTASK_US(10)),
                             MTASK_TIMEOUT);
        else if (i == 3)
            ck_assert_status(mtask_stream_read_exactly(c.stream, got, 2, NULL, MTASK_US(10)),
                             MTASK_TIMEOUT);
        else
            ck_assert_status(mtask_stream_idle(c.stream, MTASK_US(10)), MTASK_TIMEOUT);
        ck_assert_uint_eq(mtask_stream_pending(c.stream), 0);
        check_fed(c.peer, "ask");
    }
    end_conn(&c);
}

/* Answers a line for each line: the one who asks never drains. */
static void *answer_lines(void *arg) {
    mtask_stream *stream = (mtask_stream *)arg;
    char *line;
    while (mtask_stream_read_line(stream, &line, NULL, LONG) == MTASK_OK)
        ck_assert_status(mtask_stream_printf(stream, LONG, "<%s>\n", line), MTASK_OK);
    return arg;
}

typedef struct talk {
    mtask_stream *asks, *answers;
} talk;

static void *ask_lines(void *arg) {
    mtask_stream *stream = ((talk *)arg)->asks;
    char expected[32];
    for (int i = 0; i < 50; i++) {
        ck_assert_status(mtask_stream_printf(stream, LONG, "line %d\r\n", i), MTASK_OK);
        snprintf(expected, sizeof expected, "<line %d>", i);
        check_line(stream, expected);
    }
    for (int i = 0; i < 50; i++) /* pipelined */
        ck_assert_status(mtask_stream_printf(stream, LONG, "%d\n", i), MTASK_OK);
    for (int i = 0; i < 50; i++) {
        snprintf(expected, sizeof expected, "<%d>", i);
        check_line(stream, expected);
    }
    ck_assert_status(mtask_stream_shutdown(stream, LONG), MTASK_OK);
    check_no_line(stream, MTASK_CLOSED);
    return arg;
}

static void *answer_and_close(void *arg) {
    mtask_stream *stream = ((talk *)arg)->answers;
    (void)answer_lines(stream);
    ck_assert_status(mtask_stream_close(stream, LONG), MTASK_OK);
    return arg;
}

START_TEST(two_that_talk_need_no_drain) {
    static void (*const kinds[])(int ends[2]) = {open_pair, open_tcp};
    for (int where = 0; where < PLACES; where++)
        for (size_t kind = 0; kind < COUNT_OF(kinds); kind++) {
            int ends[2];
            talk two;
            kinds[kind](ends);
            two.asks = open_stream(ends[0], NULL);
            two.answers = open_stream(ends[1], NULL);
            run_both(ask_lines, &two, answer_and_close, &two, (place)where);
            mtask_stream_destroy(two.asks);
            mtask_stream_destroy(two.answers);
        }
}
END_TEST

/* A thread that sees what has been sent, and says so through a queue. */
typedef struct watcher {
    int fd;
    mtask_queue seen;
} watcher;

static void *watch_sent(void *arg) {
    watcher *self = (watcher *)arg;
    char got[8];
    for (struct pollfd one = {self->fd, POLLIN, 0}; poll(&one, 1, -1) != 1;) {
    }
    testing_check(read(self->fd, got, sizeof got) == 4);
    testing_check(memcmp(got, "sent", 4) == 0);
    ck_assert_status(mtask_queue_put(&self->seen, got, LONG), MTASK_OK);
    return arg;
}

static void *write_and_wait_on_a_queue(void *arg) {
    conn c = open_conn(NULL);
    watcher self = {.fd = c.peer};
    mtask_queue_desc desc = {.capacity = 1, .item_size = 4};
    mtask_thread thread;
    char got[4];
    ck_assert_status(mtask_queue_init(&self.seen, &desc), MTASK_OK);
    memset(&thread, 0, sizeof thread);
    ck_assert_status(mtask_thread_start(&thread, watch_sent, &self), MTASK_OK);
    write_text(c.stream, "se");
    write_text(c.stream, "nt");
    ck_assert_uint_eq(mtask_stream_pending(c.stream), 4);
    ck_assert_status(mtask_queue_get(&self.seen, got, LONG), MTASK_OK); /* a drain without one */
    ck_assert_uint_eq(mtask_stream_pending(c.stream), 0);
    ck_assert_status(mtask_thread_join(&thread, NULL, MTASK_FOREVER), MTASK_OK);
    mtask_queue_deinit(&self.seen);
    end_conn(&c);
    return arg;
}

START_TEST(what_is_held_back_goes_out_when_its_task_waits_on_a_queue) {
    (void)in_loop(write_and_wait_on_a_queue, NULL);
}
END_TEST

static void *write_and_sleep(void *arg) {
    conn many[20];
    for (int round = 0; round < 3; round++) {
        for (size_t i = 0; i < COUNT_OF(many); i++) {
            if (round == 0)
                many[i] = open_conn(NULL);
            write_text(many[i].stream, "text");
            check_fed_nothing(many[i].peer);
        }
        ck_assert_status(mtask_sleep(MTASK_MS(1)), MTASK_OK);
        for (size_t i = 0; i < COUNT_OF(many); i++) {
            check_fed(many[i].peer, "text");
            ck_assert_uint_eq(mtask_stream_pending(many[i].stream), 0);
        }
    }
    for (size_t i = 0; i < COUNT_OF(many); i++)
        end_conn(&many[i]);
    return arg;
}

START_TEST(what_is_held_back_goes_out_when_its_task_sleeps) {
    (void)in_loop(write_and_sleep, NULL);
}
END_TEST

static void *write_to_one_that_is_full(void *arg) {
    conn full = open_conn(NULL), free_one = open_conn(NULL);
    size_t stuffed = fill_fd(mtask_stream_fd(full.stream));
    write_text(full.stream, "later");
    write_text(free_one.stream, "now");
    ck_assert_status(mtask_sleep(MTASK_MS(1)), MTASK_OK);
    check_fed(free_one.peer, "now");
    ck_assert_uint_eq(mtask_stream_pending(full.stream), 5);
    ck_assert_uint_eq(drain_fd(full.peer), stuffed);
    while (mtask_stream_pending(full.stream) > 0) /* once there is room, without another call */
        linger();
    check_fed(full.peer, "later");
    end_conn(&full);
    end_conn(&free_one);
    return arg;
}

START_TEST(what_cannot_go_out_at_once_goes_later) {
    (void)in_loop(write_to_one_that_is_full, NULL);
}
END_TEST

static void *ask_when_there_is_no_room(void *arg) {
    conn *c = (conn *)arg;
    write_text(c->stream, "question");
    check_line(c->stream, "answer");
    return arg;
}

EVERYWHERE(what_cannot_go_out_goes_while_one_waits_for_input) {
    aside reader;
    conn c = open_conn(NULL);
    size_t stuffed = fill_fd(mtask_stream_fd(c.stream)), taken = 0;
    begin_waiting(&reader, ask_when_there_is_no_room, &c);
    for (; taken < stuffed + strlen("question"); taken += drain_fd(c.peer))
        linger();
    ck_assert_uint_eq(taken, stuffed + strlen("question"));
    feed(c.peer, "answer\n");
    (void)finish(&reader);
    end_conn(&c);
}

/* Ends streams that wait for room, of which a loop knows. */
static void *end_what_waits_for_room(void *arg) {
    for (int how = 0; how < 3; how++) {
        conn c = open_conn(NULL);
        size_t stuffed = fill_fd(mtask_stream_fd(c.stream));
        write_text(c.stream, "never sent");
        linger();
        if (how == 0)
            mtask_stream_abort(c.stream);
        else if (how == 1)
            ck_assert_status(mtask_stream_close(c.stream, MTASK_NOWAIT), MTASK_TIMEOUT);
        mtask_stream_destroy(c.stream);
        ck_assert_uint_eq(drain_fd(c.peer), stuffed);
        linger();
        check_fed_end(c.peer);
        end_fd(c.peer);
    }
    return arg;
}

START_TEST(a_stream_that_waits_for_room_can_be_ended) {
    (void)in_loop(end_what_waits_for_room, NULL);
}
END_TEST

static void *write_and_leave(void *arg) {
    write_text((mtask_stream *)arg, "left");
    return arg;
}

START_TEST(a_stream_may_outlive_the_loop_that_wrote) {
    for (int how = 0; how < 4; how++) {
        conn c = open_conn(NULL);
        (void)in_loop(write_and_leave, c.stream);
        if (how == 0)
            drain(c.stream);
        else if (how == 1)
            ck_assert_status(mtask_stream_close(c.stream, LONG), MTASK_OK);
        else if (how == 2)
            (void)in_loop(write_and_leave, c.stream);
        if (how == 2)
            drain(c.stream);
        if (how < 3)
            check_fed(c.peer, how == 2 ? "leftleft" : "left");
        end_conn(&c);
    }
}
END_TEST

/* ---- writes that wait ---- */

/* Writes the pattern in pieces of many sizes; never is more held back than the buffer holds. */
typedef struct source {
    mtask_stream *stream;
    size_t size, buffer;
} source;

static void *write_pattern(void *arg) {
    source *self = (source *)arg;
    char *bytes = (char *)malloc(100000);
    size_t piece = 1;
    testing_check(bytes != NULL);
    for (size_t done = 0; done < self->size; done += piece, piece = piece * 5 / 3 % 99991 + 1) {
        piece = self->size - done < piece ? self->size - done : piece;
        make_pattern(bytes, done, piece);
        ck_assert_status(mtask_stream_write(self->stream, bytes, piece, LONG), MTASK_OK);
        ck_assert_uint_le(mtask_stream_pending(self->stream), self->buffer);
    }
    drain(self->stream);
    free(bytes);
    return arg;
}

START_TEST(a_slow_reader_slows_the_writer) {
    static const size_t buffers[] = {1, 4096, MTASK_STREAM_BUFFER};
    for (int where = 0; where < PLACES; where++)
        for (size_t b = 0; b < COUNT_OF(buffers); b++) {
            conn c = open_conn_with(buffers[b], 0);
            source writes = {c.stream, 300000 + (size_t)testing_scale(600000), buffers[b]};
            taker takes = {c.peer, writes.size, true};
            run_both(write_pattern, &writes, take_all, &takes, (place)where);
            end_conn(&c);
        }
}
END_TEST

EVERYWHERE(a_huge_write_needs_no_memory) {
    enum { SIZE = 3000000 };
    char *bytes = (char *)malloc(SIZE);
    aside reader;
    conn c = open_conn(NULL);
    taker takes = {c.peer, SIZE, true};
    long before;
    testing_check(bytes != NULL);
    make_pattern(bytes, 0, SIZE);
    begin(&reader, take_all, &takes);
    linger();
    before = watch_bytes();
    ck_assert_status(mtask_stream_write(c.stream, bytes, SIZE, LONG), MTASK_OK);
    ck_assert_uint_le(mtask_stream_pending(c.stream), MTASK_STREAM_BUFFER);
    drain(c.stream);
    ck_assert_int_lt(most_used_bytes() - before, 200000);
    (void)finish(&reader);
    free(bytes);
    end_conn(&c);
}

EVERYWHERE(pieces_that_stay_together_may_be_many_and_long) {
    enum { PARTS = 1024, LONGEST = 70000 };
    static struct iovec parts[PARTS];
    static char bytes[PARTS * 40 + LONGEST];
    aside reader;
    conn c = open_conn_with(1000, 0);
    taker takes = {c.peer, 0, false};
    for (size_t i = 0; i < PARTS; i++) {
        parts[i].iov_base = bytes + takes.size;
        parts[i].iov_len = i == PARTS / 2 ? LONGEST : i * 7 % 40;
        takes.size += parts[i].iov_len;
    }
    make_pattern(bytes, 0, takes.size);
    begin(&reader, take_all, &takes);
    ck_assert_status(mtask_stream_writev(c.stream, parts, PARTS, LONG), MTASK_OK);
    drain(c.stream);
    (void)finish(&reader);
    end_conn(&c);
}

/* Several write records to one stream: each record stays in one piece. */
typedef struct record {
    uint32_t writer, number, size;
} record;

typedef struct writers {
    mtask_stream *stream;
    mtask_word next;
    long records; /* of each writer */
} writers;

static void *write_records(void *arg) {
    writers *all = (writers *)arg;
    record head = {mtask_word_add(&all->next, 1), 0, 0};
    char *bytes = (char *)malloc(50000);
    testing_check(bytes != NULL);
    for (; head.number < (uint32_t)all->records; head.number++) {
        struct iovec parts[2] = {{&head, sizeof head}, {bytes, 0}};
        head.size = (head.number * 7919 + head.writer * 104729) % 50000;
        if (head.number % 3 != 0)
            head.size %= 100;
        memset(bytes, (int)('a' + head.writer), head.size);
        parts[1].iov_len = head.size;
        ck_assert_status(mtask_stream_writev(all->stream, parts, 2, LONG), MTASK_OK);
        if (head.number % 16 == 0)
            ck_assert_status(mtask_stream_drain(all->stream, LONG), MTASK_OK);
    }
    ck_assert_status(mtask_stream_drain(all->stream, LONG),
                     MTASK_OK); /* a thread has no loop that does it */
    free(bytes);
    return arg;
}

enum { WRITERS = 6 };

static void read_records(mtask_stream *stream, long records) {
    uint32_t next[WRITERS] = {0};
    char *bytes = (char *)malloc(50000);
    testing_check(bytes != NULL);
    for (long i = 0; i < WRITERS * records; i++) {
        record head;
        ck_assert_status(mtask_stream_read_exactly(stream, &head, sizeof head, NULL, LONG),
                         MTASK_OK);
        ck_assert_uint_lt(head.writer, WRITERS);
        ck_assert_uint_eq(head.number, next[head.writer]++);
        ck_assert_uint_lt(head.size, 50000);
        ck_assert_status(mtask_stream_read_exactly(stream, bytes, head.size, NULL, LONG), MTASK_OK);
        for (size_t at = 0; at < head.size; at++)
            testing_check(bytes[at] == (char)('a' + head.writer));
    }
    free(bytes);
}

EVERYWHERE(each_write_stays_in_one_piece) {
    aside others[WRITERS];
    int ends[2];
    writers all = {.records = testing_scale(40)};
    mtask_stream_desc desc = {.buffer = 2000};
    mtask_stream *reads;
    open_pair(ends);
    all.stream = open_stream(ends[0], &desc);
    reads = open_stream(ends[1], NULL);
    for (int i = 0; i < WRITERS; i++)
        begin(&others[i], write_records, &all);
    read_records(reads, all.records);
    for (int i = 0; i < WRITERS; i++)
        (void)finish(&others[i]);
    drain(all.stream);
    mtask_stream_destroy(all.stream);
    mtask_stream_destroy(reads);
}

/* ---- writes that end early ---- */

EVERYWHERE(a_write_that_cannot_begin_can_be_tried_again) {
    static char text[1000];
    conn c = open_conn_with(1000, 0);
    size_t stuffed = fill_fd(mtask_stream_fd(c.stream));
    int64_t start = mtask_now();
    memset(text, 'x', sizeof text);
    ck_assert_status(mtask_stream_write(c.stream, text, 800, MTASK_NOWAIT), MTASK_OK);
    ck_assert_status(mtask_stream_write(c.stream, text, 800, MTASK_NOWAIT), MTASK_TIMEOUT);
    ck_assert_status(mtask_stream_write(c.stream, text, 800, MTASK_MS(2)), MTASK_TIMEOUT);
    ck_assert_int_ge(mtask_now() - start, MTASK_MS(2));
    ck_assert_status(mtask_stream_drain(c.stream, MTASK_NOWAIT), MTASK_TIMEOUT);
    ck_assert_status(mtask_stream_drain(c.stream, MTASK_MS(1)), MTASK_TIMEOUT);
    ck_assert_uint_eq(mtask_stream_pending(c.stream), 800);
    ck_assert_status(mtask_stream_write(c.stream, "[little]", 8, MTASK_NOWAIT), MTASK_OK);
    ck_assert_uint_eq(mtask_stream_pending(c.stream), 808);
    ck_assert_uint_eq(drain_fd(c.peer), stuffed);
    ck_assert_status(mtask_stream_write(c.stream, text, 800, MTASK_NOWAIT), MTASK_OK);
    drain(c.stream);
    ck_assert_uint_eq(drain_fd(c.peer), 1608);
    end_conn(&c);
}

/* What is so after a write of which some was sent, and some never. */
static void check_broken_output(conn *c) {
    ck_assert_status(mtask_stream_write(c->stream, "x", 1, LONG), MTASK_BROKEN);
    ck_assert_status(mtask_stream_printf(c->stream, LONG, "x"), MTASK_BROKEN);
    ck_assert_status(mtask_stream_drain(c->stream, LONG), MTASK_BROKEN);
    testing_check(drain_fd(c->peer) > 0);
    ck_assert_status(mtask_stream_write(c->stream, "x", 1, LONG), MTASK_BROKEN);
    feed(c->peer, "input\n");
    check_line(c->stream, "input");
    testing_check(mtask_stream_close(c->stream, LONG) != MTASK_OK);
    ck_assert_int_eq(mtask_stream_fd(c->stream), -1);
    (void)drain_fd(c->peer);
    check_fed_end(c->peer);
}

static char megabytes[4000000];

EVERYWHERE(a_write_that_ends_midway_breaks_the_output) {
    for (int how = 0; how < 3; how++) {
        conn c = open_conn(NULL);
        mtask_status status = mtask_stream_write(c.stream, megabytes, sizeof megabytes,
                                                 how == 0 ? MTASK_NOWAIT : MTASK_MS(how));
        ck_assert_status(status, MTASK_TIMEOUT);
        check_broken_output(&c);
        end_conn(&c);
    }
}

static void *write_to_be_canceled(void *arg) {
    conn *c = (conn *)arg;
    return as_result(mtask_stream_write(c->stream, megabytes, sizeof megabytes, LONG));
}

static void *cancel_a_write(void *arg) {
    conn c = open_conn(NULL);
    mtask_future *writer = go(write_to_be_canceled, &c);
    mtask_outcome outcome;
    linger();
    ck_assert_status(mtask_future_cancel(writer), MTASK_OK);
    ck_assert_status(mtask_future_get(writer, &outcome, LONG), MTASK_OK);
    ck_assert_status((mtask_status)(long)outcome.value, MTASK_CANCELED);
    mtask_future_release(writer);
    check_broken_output(&c);
    end_conn(&c);
    return arg;
}

START_TEST(a_write_that_is_canceled_midway_breaks_the_output) {
    (void)in_loop(cancel_a_write, NULL);
}
END_TEST

static void *write_a_bit_to_be_canceled(void *arg) {
    conn *c = (conn *)arg;
    ck_assert_status(mtask_stream_write(c->stream, megabytes, 80, LONG), MTASK_CANCELED);
    return as_result(mtask_stream_drain(c->stream, LONG));
}

static void *cancel_before_a_write(void *arg) {
    conn c = open_conn_with(100, 0);
    size_t stuffed = fill_fd(mtask_stream_fd(c.stream));
    mtask_future *writer;
    ck_assert_status(mtask_stream_write(c.stream, megabytes, 90, LONG), MTASK_OK);
    writer = go(write_a_bit_to_be_canceled, &c);
    linger();
    ck_assert_status(mtask_future_cancel(writer), MTASK_OK);
    ck_assert_status((mtask_status)(long)take(writer), MTASK_CANCELED);
    ck_assert_uint_eq(mtask_stream_pending(c.stream), 90);
    ck_assert_uint_eq(drain_fd(c.peer), stuffed);
    write_text(c.stream, "it still works");
    drain(c.stream);
    ck_assert_uint_eq(drain_fd(c.peer), 90 + 14);
    end_conn(&c);
    return arg;
}

START_TEST(a_write_that_is_canceled_before_it_began_can_be_tried_again) {
    (void)in_loop(cancel_before_a_write, NULL);
}
END_TEST

static void *write_for_a_while(void *arg) {
    conn *c = (conn *)arg;
    return as_result(mtask_stream_write(c->stream, megabytes, sizeof megabytes, LONG));
}

EVERYWHERE(a_writer_may_give_up_waiting_for_its_turn) {
    aside writer;
    size_t taken = 0;
    conn c = open_conn(NULL);
    begin_waiting(&writer, write_for_a_while, &c);
    ck_assert_status(mtask_stream_write(c.stream, "x", 1, MTASK_NOWAIT), MTASK_TIMEOUT);
    ck_assert_status(mtask_stream_write(c.stream, "x", 1, MTASK_MS(1)), MTASK_TIMEOUT);
    ck_assert_status(mtask_stream_printf(c.stream, MTASK_MS(1), "x"), MTASK_TIMEOUT);
    ck_assert_status(mtask_stream_drain(c.stream, MTASK_NOWAIT), MTASK_TIMEOUT);
    ck_assert_status(mtask_stream_drain(c.stream, MTASK_MS(1)), MTASK_TIMEOUT);
    for (; !flow_has_ended(&writer.flow); taken += drain_fd(c.peer))
        linger();
    finish_with(&writer, MTASK_OK); /* nothing of that broke it */
    taken += drain_fd(c.peer) + mtask_stream_pending(c.stream);
    ck_assert_uint_eq(taken, sizeof megabytes);
    drain(c.stream);
    (void)drain_fd(c.peer);
    write_text(c.stream, "its turn");
    drain(c.stream);
    check_fed(c.peer, "its turn");
    end_conn(&c);
}

EVERYWHERE(a_reader_that_went_away_is_told_again_and_again) {
    static void (*const kinds[])(int ends[2]) = {open_pair, open_tcp};
    for (size_t kind = 0; kind < COUNT_OF(kinds); kind++) {
        conn c = open_conn_of(kinds[kind], NULL);
        mtask_status status = MTASK_OK;
        hang_up(&c);
        while (status == MTASK_OK) { /* TCP learns of it by its first answer */
            status = mtask_stream_write(c.stream, "text", 4, LONG);
            if (status == MTASK_OK)
                status = mtask_stream_drain(c.stream, LONG);
            ck_assert(status == MTASK_OK || errno == EPIPE || errno == ECONNRESET);
        }
        ck_assert_status(status, MTASK_BROKEN);
        ck_assert_status(mtask_stream_write(c.stream, "x", 1, LONG), MTASK_BROKEN);
        ck_assert(errno == EPIPE || errno == ECONNRESET);
        ck_assert_status(mtask_stream_drain(c.stream, MTASK_NOWAIT), MTASK_BROKEN);
        testing_check(mtask_stream_close(c.stream, LONG) != MTASK_OK);
        end_conn(&c);
    }
}

EVERYWHERE(a_writer_is_told_when_its_reader_goes) {
    aside writer;
    conn c = open_conn(NULL);
    begin_waiting(&writer, write_for_a_while, &c);
    hang_up(&c);
    finish_with(&writer, MTASK_BROKEN);
    ck_assert_status(mtask_stream_drain(c.stream, LONG), MTASK_BROKEN);
    end_conn(&c);
}

/* ---- both directions at once ---- */

/* Sends back what comes, past mtask, until that ends. */
static void *send_back(void *arg) {
    int fd = *(int *)arg;
    char bytes[7000];
    for (size_t count; mtask_io_read(fd, bytes, sizeof bytes, &count, LONG) == MTASK_OK;)
        ck_assert_status(mtask_io_write(fd, bytes, count, NULL, LONG), MTASK_OK);
    end_fd(fd);
    return arg;
}

static void *write_pattern_and_shut_down(void *arg) {
    source *self = (source *)arg;
    (void)write_pattern(self);
    ck_assert_status(mtask_stream_shutdown(self->stream, LONG), MTASK_OK);
    return arg;
}

/* Reads the pattern by all kinds of reads. */
static void *read_pattern(void *arg) {
    source *self = (source *)arg;
    char bytes[3000];
    size_t done = 0, size = 0, wanted = 1;
    const char *data;
    for (; done < self->size; done += size, wanted = wanted * 7 % 2999 + 1) {
        wanted = wanted > self->size - done ? self->size - done : wanted;
        if (wanted % 3 == 0) {
            ck_assert_status(mtask_stream_fill(self->stream, wanted, &data, &size, LONG), MTASK_OK);
            testing_check(size >= wanted);
            check_pattern(data, done, size);
            ck_assert_status(mtask_stream_skip(self->stream, size), MTASK_OK);
            continue;
        }
        if (wanted % 3 == 1)
            ck_assert_status(mtask_stream_read(self->stream, bytes, wanted, &size, LONG), MTASK_OK);
        else
            ck_assert_status(mtask_stream_read_exactly(self->stream, bytes, wanted, &size, LONG),
                             MTASK_OK);
        testing_check(size > 0 && size <= wanted);
        check_pattern(bytes, done, size);
    }
    check_end(self->stream);
    return arg;
}

START_TEST(one_reads_while_another_writes) {
    static void (*const kinds[])(int ends[2]) = {open_pair, open_tcp};
    for (int where = 0; where < PLACES; where++)
        for (size_t kind = 0; kind < COUNT_OF(kinds); kind++) {
            conn c = open_conn_of(kinds[kind], NULL);
            source both = {c.stream, 700000, MTASK_STREAM_BUFFER};
            pthread_t echo;
            testing_check(pthread_create(&echo, NULL, send_back, &c.peer) == 0);
            run_both(read_pattern, &both, write_pattern_and_shut_down, &both, (place)where);
            testing_check(pthread_join(echo, NULL) == 0);
            mtask_stream_destroy(c.stream);
        }
}
END_TEST

static void *answer_one_line(void *arg) {
    mtask_stream *stream = (mtask_stream *)arg;
    char *line;
    ck_assert_status(mtask_stream_read_line(stream, &line, NULL, LONG), MTASK_OK);
    ck_assert_status(mtask_stream_printf(stream, LONG, "<%s>", line), MTASK_OK);
    linger();
    drain(stream);
    return arg;
}

static void *answer_one_line_in_loop(void *arg) {
    return in_loop(answer_one_line, arg);
}

START_TEST(a_stream_goes_from_place_to_place) {
    static const mtask_fn fns[] = {answer_one_line, answer_one_line_in_loop,
                                   answer_one_line_in_loop};
    conn c = open_conn(NULL);
    for (size_t i = 0; i < 3 * COUNT_OF(fns); i++) {
        aside other;
        begin_waiting(&other, fns[i % COUNT_OF(fns)], c.stream);
        feed(c.peer, "where");
        linger();
        feed(c.peer, "\nhe"); /* the next place finds half a line */
        (void)finish(&other);
        check_fed(c.peer, "<where>");
        feed(c.peer, "re\n");
        check_line(c.stream, "here");
    }
    end_conn(&c);
}
END_TEST

/* ---- one stream, several loops ---- */

/* Two loops that begin to use the same streams at the same time. */
typedef struct meeting {
    mtask_stream *streams[50];
    uint32_t arrivals; /* at the starting lines */
} meeting;

/* Returns when both have called it for the `round`th time, from 1. */
static void meet(meeting *self, uint32_t round) {
    __atomic_fetch_add(&self->arrivals, 1, __ATOMIC_SEQ_CST);
    for (int turns = 0; __atomic_load_n(&self->arrivals, __ATOMIC_SEQ_CST) < 2 * round; turns++)
        if (turns > 200)
            sched_yield();
}

static void *begin_to_read(void *arg) {
    meeting *self = (meeting *)arg;
    for (uint32_t i = 0; i < COUNT_OF(self->streams); i++) {
        meet(self, i + 1);
        check_fill(self->streams[i], 1, MTASK_TIMEOUT, "");
    }
    linger();
    return arg;
}

static void *begin_to_write(void *arg) {
    meeting *self = (meeting *)arg;
    for (uint32_t i = 0; i < COUNT_OF(self->streams); i++) {
        meet(self, i + 1);
        write_text(self->streams[i], "x");
    }
    linger();
    return arg;
}

START_TEST(two_loops_may_begin_with_a_stream_at_once) {
    for (int where = IN_LOOPS; where < PLACES; where++) {
        conn many[COUNT_OF(((meeting *)NULL)->streams)];
        meeting self = {.arrivals = 0};
        for (size_t i = 0; i < COUNT_OF(many); i++) {
            many[i] = open_conn(NULL);
            self.streams[i] = many[i].stream;
        }
        run_both(begin_to_read, &self, begin_to_write, &self, (place)where);
        for (size_t i = 0; i < COUNT_OF(many); i++) {
            drain(many[i].stream);
            check_fed(many[i].peer, "x");
            end_conn(&many[i]);
        }
    }
}
END_TEST

/* Some wait for lines of streams that are closed by another one. */
typedef struct closing {
    conn c[20];
    aside readers[20];
    mtask_word begun;
    bool hard;
} closing;

static void *wait_for_the_close(void *arg) {
    conn own;
    check_no_line((mtask_stream *)arg, MTASK_BROKEN);
    own = open_conn(NULL); /* while the next ones are being closed */
    write_text(own.stream, "text");
    (void)mtask_yield();
    end_conn(&own);
    return arg;
}

static void *wait_for_all_closes(void *arg) {
    closing *self = (closing *)arg;
    for (size_t i = 0; i < COUNT_OF(self->c); i++)
        begin(&self->readers[i], wait_for_the_close, self->c[i].stream);
    mtask_word_store(&self->begun, 1);
    for (size_t i = 0; i < COUNT_OF(self->c); i++)
        (void)finish(&self->readers[i]);
    return arg;
}

static void *close_all(void *arg) {
    closing *self = (closing *)arg;
    while (mtask_word_load(&self->begun) == 0)
        linger();
    for (size_t i = 0; i < COUNT_OF(self->c); i++)
        await_flow(&self->readers[i].flow);
    for (size_t i = 0; i < COUNT_OF(self->c); i++)
        if (self->hard)
            mtask_stream_abort(self->c[i].stream);
        else
            ck_assert_status(mtask_stream_close(self->c[i].stream, LONG), MTASK_OK);
    return arg;
}

START_TEST(a_stream_may_be_closed_from_elsewhere) {
    for (int where = 0; where < PLACES; where++)
        for (int hard = 0; hard < 2; hard++) {
            closing self;
            memset(&self, 0, sizeof self);
            self.hard = hard != 0;
            for (size_t i = 0; i < COUNT_OF(self.c); i++)
                self.c[i] = open_conn(NULL);
            run_both(wait_for_all_closes, &self, close_all, &self, (place)where);
            for (size_t i = 0; i < COUNT_OF(self.c); i++)
                end_conn(&self.c[i]);
        }
}
END_TEST

/* A loop that does not look after its streams for a while. */
typedef struct blocked {
    conn c[4];
    mtask_word used, ended;
} blocked;

static void *block_loop(void *arg) {
    blocked *self = (blocked *)arg;
    for (size_t i = 0; i < COUNT_OF(self->c); i++)
        check_fill(self->c[i].stream, 1, MTASK_TIMEOUT, "");
    mtask_word_store(&self->used, 1);
    while (mtask_word_load(&self->ended) == 0)
        testing_pause(1); /* the loop stands still */
    linger();
    return arg;
}

/* What it writes is left to the loop; then some of these streams are gone. */
static void *write_and_end(void *arg) {
    blocked *self = (blocked *)arg;
    while (mtask_word_load(&self->used) == 0)
        linger();
    for (size_t i = 0; i < COUNT_OF(self->c); i++) {
        (void)fill_fd(mtask_stream_fd(self->c[i].stream));
        write_text(self->c[i].stream, "left to the loop");
    }
    mtask_stream_abort(self->c[2].stream);
    mtask_stream_abort(self->c[0].stream);
    mtask_stream_destroy(self->c[3].stream);
    (void)drain_fd(self->c[1].peer);
    mtask_word_store(&self->ended, 1);
    return arg;
}

START_TEST(a_stream_may_end_before_its_loop_looks) {
    static const place places[] = {IN_LOOPS, TASK_AND_THREAD};
    for (size_t i = 0; i < COUNT_OF(places); i++) {
        blocked self;
        memset(&self, 0, sizeof self);
        for (size_t k = 0; k < COUNT_OF(self.c); k++)
            self.c[k] = open_conn(NULL);
        run_both(block_loop, &self, write_and_end, &self, places[i]);
        drain(self.c[1].stream);
        check_fed(self.c[1].peer, "left to the loop");
        self.c[3].stream = NULL;
        for (size_t k = 0; k < COUNT_OF(self.c); k++)
            end_conn(&self.c[k]);
    }
}
END_TEST

/* Writes on while loops come and go that read. */
static void *write_lines(void *arg) {
    source *self = (source *)arg;
    for (size_t i = 0; i < self->size; i++)
        ck_assert_status(mtask_stream_printf(self->stream, LONG, "%zu\n", i), MTASK_OK);
    drain(self->stream);
    return arg;
}

typedef struct line_reader {
    mtask_stream *stream;
    size_t next, count;
} line_reader;

static void *read_some_lines(void *arg) {
    line_reader *self = (line_reader *)arg;
    char expected[32];
    for (size_t i = 0; i < self->count; i++) {
        snprintf(expected, sizeof expected, "%zu", self->next++);
        check_line(self->stream, expected);
    }
    return arg;
}

static void *read_lines_in_loops(void *arg) {
    line_reader *self = (line_reader *)arg;
    for (int i = 0; i < 20; i++)
        (void)in_loop(read_some_lines, self);
    return arg;
}

START_TEST(loops_come_and_go_while_others_write) {
    conn c = open_conn(NULL);
    line_reader reads = {c.stream, 0, (size_t)testing_scale(200)};
    source writes = {c.stream, 20 * reads.count, 0};
    pthread_t echo;
    testing_check(pthread_create(&echo, NULL, send_back, &c.peer) == 0);
    run_both(write_lines, &writes, read_lines_in_loops, &reads, IN_THREADS);
    ck_assert_status(mtask_stream_shutdown(c.stream, LONG), MTASK_OK);
    testing_check(pthread_join(echo, NULL) == 0);
    check_end(c.stream);
    mtask_stream_destroy(c.stream);
}
END_TEST

/* ---- close, abort, destroy ---- */

EVERYWHERE(close_sends_what_is_held_back) {
    conn c = open_conn(NULL);
    write_text(c.stream, "last words");
    check_fed_nothing(c.peer);
    ck_assert_status(mtask_stream_close(c.stream, LONG), MTASK_OK);
    ck_assert_int_eq(mtask_stream_fd(c.stream), -1);
    check_fed(c.peer, "last words");
    check_fed_end(c.peer);
    ck_assert_status(mtask_stream_close(c.stream, LONG), MTASK_OK);
    end_conn(&c);
}

EVERYWHERE(a_closed_stream_is_broken) {
    for (int how = 0; how < 2; how++) {
        conn c = open_conn(NULL);
        char byte;
        if (how == 0)
            ck_assert_status(mtask_stream_close(c.stream, LONG), MTASK_OK);
        else
            mtask_stream_abort(c.stream);
        ck_assert_int_eq(mtask_stream_fd(c.stream), -1);
        ck_assert_status(mtask_stream_read(c.stream, &byte, 1, NULL, LONG), MTASK_BROKEN);
        ck_assert_int_eq(errno, EBADF);
        check_no_line(c.stream, MTASK_BROKEN);
        check_fill(c.stream, 1, MTASK_BROKEN, "");
        check_until(c.stream, "x", MTASK_BROKEN, "");
        check_exactly(c.stream, 1, MTASK_BROKEN, "");
        ck_assert_status(mtask_stream_idle(c.stream, LONG), MTASK_BROKEN);
        ck_assert_status(mtask_stream_write(c.stream, "x", 1, LONG), MTASK_BROKEN);
        ck_assert_status(mtask_stream_printf(c.stream, LONG, "x"), MTASK_BROKEN);
        ck_assert_status(mtask_stream_shutdown(c.stream, LONG), MTASK_BROKEN);
        ck_assert_uint_eq(mtask_stream_pending(c.stream), 0);
        ck_assert_status(mtask_stream_close(c.stream, LONG), MTASK_OK);
        mtask_stream_abort(c.stream);
        end_conn(&c);
    }
}

EVERYWHERE(input_of_a_closed_stream_can_still_be_read) {
    conn c = open_conn(NULL);
    feed(c.peer, "line\nrest");
    check_fill(c.stream, 9, MTASK_OK, "line\nrest");
    ck_assert_status(mtask_stream_close(c.stream, LONG), MTASK_OK);
    check_line(c.stream, "line");
    check_no_line(c.stream, MTASK_BROKEN);
    check_exactly(c.stream, 5, MTASK_BROKEN, "rest");
    check_fill(c.stream, 1, MTASK_BROKEN, "");
    end_conn(&c);
}

EVERYWHERE(close_waits_no_longer_than_it_may) {
    static const int64_t timeouts[] = {MTASK_NOWAIT, MTASK_MS(2)};
    for (size_t i = 0; i < COUNT_OF(timeouts); i++) {
        conn c = open_conn(NULL);
        size_t stuffed = fill_fd(mtask_stream_fd(c.stream));
        int64_t start = mtask_now();
        write_text(c.stream, "never sent");
        ck_assert_status(mtask_stream_close(c.stream, timeouts[i]), MTASK_TIMEOUT);
        ck_assert_int_ge(mtask_now() - start, timeouts[i]);
        ck_assert_int_eq(mtask_stream_fd(c.stream), -1);
        ck_assert_uint_eq(drain_fd(c.peer), stuffed);
        check_fed_end(c.peer);
        end_conn(&c);
    }
}

static void *close_stream(void *arg) {
    return as_result(mtask_stream_close((mtask_stream *)arg, LONG));
}

EVERYWHERE(close_waits_for_room) {
    aside closer;
    conn c = open_conn(NULL);
    size_t stuffed = fill_fd(mtask_stream_fd(c.stream)), taken = 0;
    write_text(c.stream, "the end");
    begin_waiting(&closer, close_stream, c.stream);
    ck_assert(!flow_has_ended(&closer.flow));
    for (; !flow_has_ended(&closer.flow); taken += drain_fd(c.peer))
        linger();
    finish_with(&closer, MTASK_OK);
    taken += drain_fd(c.peer);
    ck_assert_uint_eq(taken, stuffed + strlen("the end"));
    check_fed_end(c.peer);
    end_conn(&c);
}

static void *wait_for_a_line(void *arg) {
    char *line;
    mtask_status status = mtask_stream_read_line((mtask_stream *)arg, &line, NULL, LONG);
    ck_assert_ptr_null(line);
    return as_result(status);
}

static void *wait_idle(void *arg) {
    return as_result(mtask_stream_idle((mtask_stream *)arg, LONG));
}

EVERYWHERE(whoever_waits_is_told_of_the_close) {
    static const mtask_fn waits[] = {wait_for_a_line, wait_idle};
    for (size_t i = 0; i < COUNT_OF(waits); i++)
        for (int how = 0; how < 2; how++) {
            aside reader;
            conn c = open_conn(NULL);
            begin_waiting(&reader, waits[i], c.stream);
            if (how == 0)
                ck_assert_status(mtask_stream_close(c.stream, LONG), MTASK_OK);
            else
                mtask_stream_abort(c.stream);
            finish_with(&reader, MTASK_BROKEN);
            end_conn(&c);
        }
}

EVERYWHERE(writers_that_wait_are_told_of_the_close) {
    for (int how = 0; how < 2; how++) {
        aside three[3];
        conn c = open_conn(NULL);
        for (size_t i = 0; i < COUNT_OF(three); i++) /* the others wait for their turn */
            begin_waiting(&three[i], write_for_a_while, &c);
        if (how == 0)
            testing_check(mtask_stream_close(c.stream, MTASK_MS(1)) != MTASK_OK);
        else
            mtask_stream_abort(c.stream);
        for (size_t i = 0; i < COUNT_OF(three); i++)
            finish_with(&three[i], MTASK_BROKEN);
        ck_assert_int_eq(mtask_stream_fd(c.stream), -1);
        end_conn(&c);
    }
}

EVERYWHERE(abort_resets_the_connection) {
    char byte;
    conn c = open_conn_of(open_tcp, NULL);
    write_text(c.stream, "never sent");
    mtask_stream_abort(c.stream);
    ck_assert_int_eq(mtask_stream_fd(c.stream), -1);
    ck_assert_status(mtask_io_read(c.peer, &byte, 1, NULL, LONG), MTASK_BROKEN);
    ck_assert_int_eq(errno, ECONNRESET);
    end_conn(&c);
}

EVERYWHERE(destroy_sends_nothing) {
    conn c = open_conn(NULL);
    int fd = mtask_stream_fd(c.stream), before = count_fds();
    feed(c.peer, "unread");
    check_fill(c.stream, 1, MTASK_OK, "unread");
    write_text(c.stream, "unsent");
    mtask_stream_destroy(c.stream);
    ck_assert_int_eq(fcntl(fd, F_GETFD), -1);
    ck_assert_int_eq(count_fds(), before - 1);
    linger(); /* a loop that remembered it would touch it now */
    check_fed_end(c.peer);
    end_fd(c.peer);
    mtask_stream_destroy(NULL);
}

EVERYWHERE(nothing_is_left_of_a_stream) {
    int fds = 0;
    long bytes = 0;
    for (int round = 0; round < 20; round++) {
        conn c = open_conn(NULL);
        feed(c.peer, "a line\nand half");
        check_line(c.stream, "a line");
        write_text(c.stream, "text");
        if (round % 3 == 0)
            ck_assert_status(mtask_stream_close(c.stream, LONG), MTASK_OK);
        else if (round % 3 == 1)
            mtask_stream_abort(c.stream);
        end_conn(&c);
        if (round == 10)
            fds = count_fds(), bytes = used_bytes();
    }
    ck_assert_int_eq(count_fds(), fds);
    ck_assert_int_le(used_bytes(), bytes);
}

/* ---- files that are sent ---- */

EVERYWHERE(a_file_follows_what_was_written_before) {
    enum { SIZE = 900000, HEAD = 5000, OFFSET = 777 };
    static char head[HEAD];
    aside reader;
    int file = open_file(SIZE);
    conn c = open_conn(NULL);
    taker takes = {c.peer, SIZE + HEAD, true};
    make_pattern(head, 0, HEAD);
    begin(&reader, take_all, &takes);
    ck_assert_status(mtask_stream_write(c.stream, head, OFFSET, LONG), MTASK_OK);
    ck_assert_status(mtask_stream_sendfile(c.stream, file, OFFSET, SIZE - OFFSET, LONG), MTASK_OK);
    make_pattern(head, SIZE, HEAD);
    ck_assert_status(mtask_stream_write(c.stream, head, HEAD, LONG), MTASK_OK);
    drain(c.stream);
    (void)finish(&reader);
    ck_assert_int_eq(lseek(file, 0, SEEK_CUR), 0);
    close(file);
    end_conn(&c);
}

EVERYWHERE(a_file_may_be_empty_or_shorter_than_said) {
    int file = open_file(100);
    conn c = open_conn(NULL);
    write_text(c.stream, "<");
    ck_assert_status(mtask_stream_sendfile(c.stream, file, 0, 0, LONG), MTASK_OK);
    ck_assert_status(mtask_stream_sendfile(c.stream, file, 40, 60, LONG), MTASK_OK);
    write_text(c.stream, ">");
    drain(c.stream);
    check_fed(c.peer, "<");
    take_pattern(c.peer, 40, 60);
    check_fed(c.peer, ">");
    ck_assert_status(mtask_stream_sendfile(c.stream, file, 90, 20, LONG), MTASK_CLOSED);
    take_pattern(c.peer, 90, 10);
    ck_assert_status(mtask_stream_sendfile(c.stream, -1, 0, 20, LONG), MTASK_SYSTEM);
    close(file);
    end_conn(&c);
}

typedef struct file_source {
    mtask_stream *stream;
    int file;
    size_t size;
} file_source;

static void *send_whole_file(void *arg) {
    file_source *self = (file_source *)arg;
    ck_assert_status(mtask_stream_sendfile(self->stream, self->file, 0, self->size, LONG),
                     MTASK_OK);
    ck_assert_uint_eq(mtask_stream_pending(self->stream), 0);
    return arg;
}

EVERYWHERE(a_file_goes_through_a_pipe_too) {
    int ends[2], file = open_file(200000);
    aside writer;
    file_source all = {NULL, file, 200000};
    open_pipe(ends);
    all.stream = open_stream(ends[1], NULL);
    begin(&writer, send_whole_file, &all);
    take_pattern(ends[0], 0, all.size);
    (void)finish(&writer);
    mtask_stream_destroy(all.stream);
    end_fd(ends[0]);
    close(file);
}

/* ---- kinds of descriptors ---- */

/* Two ends of a pseudo-terminal that changes nothing; what is written to one is read from the
   other. */
static void open_terminal(int ends[2]) {
    struct termios raw;
    ends[0] = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    testing_check(ends[0] >= 0 && grantpt(ends[0]) == 0 && unlockpt(ends[0]) == 0);
    ends[1] = open(ptsname(ends[0]), O_RDWR | O_NOCTTY | O_CLOEXEC);
    testing_check(ends[1] >= 0 && tcgetattr(ends[1], &raw) == 0);
    cfmakeraw(&raw);
    testing_check(tcsetattr(ends[1], TCSANOW, &raw) == 0);
}

static const struct {
    void (*open_ends)(int ends[2]);
    bool ends; /* is the end of its input told, after what came before? */
} kinds_of_ends[] = {
    {open_pipe, true}, {plain_pair, true}, {open_tcp, true}, {open_terminal, false}};

static void *write_through(void *arg) {
    source *self = (source *)arg;
    (void)write_pattern(self);
    ck_assert_status(mtask_stream_printf(self->stream, LONG, "\nline %d\n", 2), MTASK_OK);
    drain(self->stream);
    return arg;
}

static void *read_through(void *arg) {
    source *self = (source *)arg;
    char bytes[1000];
    size_t piece;
    for (size_t done = 0; done < self->size; done += piece) {
        piece = self->size - done < sizeof bytes ? self->size - done : sizeof bytes;
        ck_assert_status(mtask_stream_read_exactly(self->stream, bytes, piece, NULL, LONG),
                         MTASK_OK);
        check_pattern(bytes, done, piece);
    }
    check_line(self->stream, "");
    check_line(self->stream, "line 2");
    return arg;
}

START_TEST(streams_stand_on_all_kinds_of_descriptors) {
    for (size_t kind = 0; kind < COUNT_OF(kinds_of_ends); kind++)
        for (int where = 0; where < PLACES; where++) {
            int ends[2];
            source in = {NULL, 150000, MTASK_STREAM_BUFFER}, out = in;
            kinds_of_ends[kind].open_ends(ends);
            in.stream = open_stream(ends[0], NULL);
            out.stream = open_stream(ends[1], NULL);
            run_both(read_through, &in, write_through, &out, (place)where);
            if (kinds_of_ends[kind].ends) {
                write_text(out.stream, "end");
                ck_assert_status(mtask_stream_close(out.stream, LONG), MTASK_OK);
                check_line(in.stream, "end");
                check_end(in.stream);
            }
            mtask_stream_destroy(in.stream);
            mtask_stream_destroy(out.stream);
        }
}
END_TEST

EVERYWHERE(a_file_is_read_to_its_end) {
    char bytes[1000];
    mtask_stream *stream = open_stream(open_file(20500), NULL);
    for (size_t done = 0; done < 20000; done += sizeof bytes) {
        ck_assert_status(mtask_stream_read_exactly(stream, bytes, sizeof bytes, NULL, LONG),
                         MTASK_OK);
        check_pattern(bytes, done, sizeof bytes);
    }
    ck_assert_status(mtask_stream_read_exactly(stream, bytes, sizeof bytes, NULL, LONG),
                     MTASK_CLOSED);
    check_pattern(bytes, 20000, 500);
    check_end(stream);
    mtask_stream_destroy(stream);
}

EVERYWHERE(a_direction_that_is_not_there_is_refused) {
    int ends[2];
    mtask_stream *in, *out;
    char byte;
    open_pipe(ends);
    in = open_stream(ends[0], NULL);
    out = open_stream(ends[1], NULL);
    ck_assert_status(mtask_stream_read(out, &byte, 1, NULL, LONG), MTASK_SYSTEM);
    ck_assert_int_eq(errno, EBADF);
    check_sent(in, MTASK_SYSTEM);
    mtask_stream_destroy(in);
    mtask_stream_destroy(out);
}

EVERYWHERE(what_is_no_descriptor_becomes_no_stream) {
    int ends[2];
    mtask_stream *stream = NULL;
    open_pipe(ends);
    end_fds(ends);
    ck_assert_status(mtask_stream_open(&stream, ends[0], NULL), MTASK_SYSTEM);
    ck_assert_int_eq(errno, EBADF);
    ck_assert_status(mtask_stream_open(&stream, -1, NULL), MTASK_SYSTEM);
    ck_assert_int_eq(errno, EBADF);
}

typedef struct listening {
    int fd;
    char address[MTASK_ADDRESS_TEXT];
} listening;

static listening listen_somewhere(void) {
    listening made;
    mtask_address address;
    ck_assert_status(mtask_tcp_listen(&made.fd, "127.0.0.1:0", NULL), MTASK_OK);
    ck_assert_status(mtask_io_local(made.fd, &address), MTASK_OK);
    (void)mtask_address_text(&address, made.address, sizeof made.address);
    return made;
}

static void *accept_and_answer(void *arg) {
    listening *self = (listening *)arg;
    mtask_stream *stream;
    int fd;
    ck_assert_status(mtask_tcp_accept(self->fd, &fd, NULL, LONG), MTASK_OK);
    stream = open_stream(fd, NULL);
    (void)answer_lines(stream);
    ck_assert_status(mtask_stream_close(stream, LONG), MTASK_OK);
    mtask_stream_destroy(stream);
    return arg;
}

EVERYWHERE(connect_makes_a_stream) {
    listening here = listen_somewhere();
    mtask_stream *stream = NULL;
    mtask_stream_desc desc = {.limit = 5};
    aside server;
    begin(&server, accept_and_answer, &here);
    ck_assert_status(mtask_stream_connect(&stream, here.address, &desc, LONG), MTASK_OK);
    write_text(stream, "abc\n");
    check_line(stream, "<abc>");
    write_text(stream, "abcd\n");
    check_no_line(stream, MTASK_OVERFLOW); /* the description counts */
    ck_assert_status(mtask_stream_shutdown(stream, LONG), MTASK_OK);
    check_exactly(stream, 7, MTASK_OK, "<abcd>\n");
    check_end(stream);
    mtask_stream_destroy(stream);
    (void)finish(&server);
    end_fd(here.fd);
    ck_assert_status(mtask_stream_connect(&stream, here.address, NULL, LONG), MTASK_SYSTEM);
    ck_assert_int_eq(errno, ECONNREFUSED);
}

/* ---- memory ---- */

enum { IDLERS = 50 };

static void *be_idle(void *arg) {
    mtask_stream *stream = (mtask_stream *)arg;
    check_line(stream, "one");
    write_text(stream, "answer\n");
    check_line(stream, "two");
    return arg;
}

/* Whether `count` streams that wait have no more than some hundred bytes each. */
static void check_lean(long before, long count) {
    ck_assert_int_le(used_bytes() - before, count * 1500 + 3 * MTASK_STREAM_BUFFER);
}

static void *idle_in_tasks(void *arg) {
    static conn many[IDLERS];
    mtask_future *tasks[IDLERS];
    long before = used_bytes();
    for (size_t i = 0; i < IDLERS; i++) {
        many[i] = open_conn(NULL);
        tasks[i] = go(be_idle, many[i].stream);
    }
    linger();
    check_lean(before, IDLERS);
    for (size_t i = 0; i < IDLERS; i++)
        feed(many[i].peer, "one\n");
    for (size_t i = 0; i < IDLERS; i++)
        while (polled(many[i].peer, POLLIN) == 0)
            linger();
    check_lean(before, IDLERS);
    for (size_t i = 0; i < IDLERS; i++) {
        feed(many[i].peer, "two\n");
        (void)take(tasks[i]);
        end_conn(&many[i]);
    }
    return arg;
}

START_TEST(a_task_that_waits_for_input_holds_no_buffer) {
    (void)in_loop(idle_in_tasks, NULL);
}
END_TEST

static void be_idle_in_thread(testing_member *self) {
    (void)be_idle(((conn *)self->arg)[self->index].stream);
}

START_TEST(a_thread_that_waits_for_input_holds_no_buffer) {
    enum { COUNT = 12 };
    conn many[COUNT];
    testing_crowd crowd;
    long before = used_bytes();
    for (size_t i = 0; i < COUNT; i++) {
        many[i] = open_conn(NULL);
        feed(many[i].peer, "one\n");
    }
    testing_crowd_start(&crowd, COUNT, be_idle_in_thread, many);
    testing_crowd_await_asleep(&crowd, COUNT);
    check_lean(before, COUNT);
    for (size_t i = 0; i < COUNT; i++)
        feed(many[i].peer, "two\n");
    testing_crowd_join(&crowd);
    for (size_t i = 0; i < COUNT; i++)
        end_conn(&many[i]);
}
END_TEST

EVERYWHERE(after_a_long_line_the_memory_is_given_back) {
    static char text[60001];
    conn c = open_conn(NULL);
    long before = used_bytes();
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\n';
    for (int round = 0; round < 3; round++) {
        feed_bytes(c.peer, text, sizeof text);
        check_line_of(c.stream, text, sizeof text - 1);
        check_fill_for(c.stream, 1, MTASK_US(10), MTASK_TIMEOUT, "");
    }
    ck_assert_int_le(used_bytes() - before, 3 * MTASK_STREAM_BUFFER);
    end_conn(&c);
}

/* ---- an input, cut in every way ---- */

/* Gives an input to a stream in pieces. */
typedef struct delivery {
    conn c;
    const char *input;
    size_t size;
    size_t cuts[3]; /* the last is the size */
    size_t given;
    int next;
} delivery;

/* Gives the next piece, and after the last one the end; false: that was given, too. */
static bool deliver(delivery *d) {
    if (d->c.peer < 0)
        return false;
    if (d->given == d->size) {
        hang_up(&d->c);
        return true;
    }
    while (d->cuts[d->next] == d->given)
        d->next++;
    feed_bytes(d->c.peer, d->input + d->given, d->cuts[d->next] - d->given);
    d->given = d->cuts[d->next];
    return true;
}

/* What a script has read, so that two runs of it can be compared. */
typedef struct transcript {
    char text[1024];
    size_t size;
} transcript;

static void note(transcript *log, char kind, mtask_status status, const char *data, size_t size) {
    testing_check(log->size + size + 3 < sizeof log->text);
    log->text[log->size++] = kind;
    log->text[log->size++] = (char)('A' + (int)status);
    if (size > 0)
        memcpy(log->text + log->size, data, size);
    log->size += size;
    log->text[log->size++] = '|';
}

static mtask_status note_line(delivery *d, transcript *log, int64_t timeout) {
    mtask_status status;
    char *line;
    size_t size = 0;
    do
        status = mtask_stream_read_line(d->c.stream, &line, &size, timeout);
    while (status == MTASK_TIMEOUT && deliver(d));
    note(log, 'l', status, line, status == MTASK_OK ? size : 0);
    return status;
}

static mtask_status note_until(delivery *d, transcript *log, int64_t timeout, const char *mark) {
    mtask_status status;
    const char *data;
    size_t size;
    do
        status = mtask_stream_read_until(d->c.stream, mark, strlen(mark), &data, &size, timeout);
    while (status == MTASK_TIMEOUT && deliver(d));
    note(log, 'u', status, data, status == MTASK_OVERFLOW ? 0 : size);
    return status;
}

static mtask_status note_exactly(delivery *d, transcript *log, int64_t timeout, size_t wanted) {
    mtask_status status;
    char got[16];
    size_t done = 0, size;
    do {
        status = mtask_stream_read_exactly(d->c.stream, got + done, wanted - done, &size, timeout);
        done += size;
    } while (status == MTASK_TIMEOUT && deliver(d));
    note(log, 'e', status, got, done);
    return status;
}

/* Fills, and takes `least` bytes of what there is then. */
static mtask_status note_fill(delivery *d, transcript *log, int64_t timeout, size_t least) {
    mtask_status status;
    const char *data;
    size_t size;
    do
        status = mtask_stream_fill(d->c.stream, least, &data, &size, timeout);
    while (status == MTASK_TIMEOUT && deliver(d));
    testing_check(status == MTASK_OK ? size >= least : size < least);
    size = size < least ? size : least;
    note(log, 'f', status, data, size);
    ck_assert_status(mtask_stream_skip(d->c.stream, size), MTASK_OK);
    return status;
}

/* One of the ways to read an input: what it calls is the same for the same input. */
static mtask_status read_in_turn(delivery *d, transcript *log, int64_t timeout, int script,
                                 int turn) {
    static const char ways[][5] = {"llll", "uuuu", "vvvv", "eeee", "ffff", "luef", "vlfe", "eluv"};
    switch (ways[script][turn % 4]) {
    case 'l':
        return note_line(d, log, timeout);
    case 'u':
        return note_until(d, log, timeout, "\n");
    case 'v':
        return note_until(d, log, timeout, "\r\n\r\n");
    case 'e':
        return note_exactly(d, log, timeout, 3);
    default:
        return note_fill(d, log, timeout, (size_t)turn % 5 + 1);
    }
}

enum { SCRIPTS = 8 };

/* Reads all of the input; a piece that is too long is passed over byte by byte. */
static void read_script(delivery *d, transcript *log, int64_t timeout, int script) {
    mtask_status status = MTASK_OK;
    for (int turn = 0; !mtask_stream_at_eof(d->c.stream); turn++) {
        status = read_in_turn(d, log, timeout, script, turn);
        testing_check(status == MTASK_OK || status == MTASK_CLOSED || status == MTASK_OVERFLOW);
        if (status != MTASK_OK && !mtask_stream_at_eof(d->c.stream))
            (void)note_exactly(d, log, timeout, 1);
    }
}

/* The input of these tests: all kinds of ends, a line of 8 bytes, one of 9, and a last one. */
static const char cut_input[] = "ab\r\n\r\n\n\rc\n\0d\n12345678\r\n123456789\n\r\nend\r";

#define CUT_SIZE (sizeof cut_input - 1)

static void open_delivery(delivery *d, size_t buffer, size_t first_cut, size_t second_cut) {
    memset(d, 0, sizeof *d);
    d->input = cut_input;
    d->size = CUT_SIZE;
    d->cuts[0] = first_cut;
    d->cuts[1] = second_cut;
    d->cuts[2] = CUT_SIZE;
    d->c = open_conn_with(buffer, 8);
}

static void close_delivery(delivery *d) {
    ck_assert_uint_eq(d->given, d->size);
    ck_assert_int_eq(d->c.peer, -1);
    end_conn(&d->c);
}

/* Reads by a script, gives the next piece whenever the reader would have to wait. */
static void run_script(transcript *log, int script, size_t buffer, size_t cut, size_t cut2) {
    delivery d;
    log->size = 0;
    open_delivery(&d, buffer, cut, cut2);
    read_script(&d, log, MTASK_NOWAIT, script);
    close_delivery(&d);
}

static void check_transcript(const transcript *log, const transcript *expected) {
    ck_assert_uint_eq(log->size, expected->size);
    testing_check(memcmp(log->text, expected->text, log->size) == 0);
}

START_TEST(the_script_of_lines_reads_what_it_should) {
    transcript log;
    run_script(&log, 0, 0, CUT_SIZE, CUT_SIZE);
    log.text[log.size] = '\0';
    for (size_t i = 0; i < log.size; i++) /* texts end at zeroes */
        log.text[i] = (char)(log.text[i] == '\0' ? '0' : log.text[i]);
    ck_assert_int_eq('A' + MTASK_OVERFLOW, 'O');
    ck_assert_str_eq(log.text, "lAab|lA|lA|lA\rc|lA0d|lA12345678|lO|eA1|lA23456789|lA|lAend\r|");
}
END_TEST

EVERYWHERE(where_the_input_is_cut_makes_no_difference) {
    for (int script = 0; script < SCRIPTS; script++) {
        transcript whole, log;
        run_script(&whole, script, 0, CUT_SIZE, CUT_SIZE);
        for (size_t cut = 0; cut <= CUT_SIZE; cut++)
            for (size_t cut2 = cut; cut2 <= CUT_SIZE; cut2 += testing_scale(2) > 1 ? 1 : 5) {
                run_script(&log, script, cut2 % 3 * 4, cut, cut2);
                check_transcript(&log, &whole);
            }
    }
}

static void *deliver_all(void *arg) {
    delivery *d = (delivery *)arg;
    do
        linger();
    while (deliver(d));
    return arg;
}

typedef struct script_reader {
    delivery d;
    transcript log;
    int script;
} script_reader;

static void *read_while_delivered(void *arg) {
    script_reader *self = (script_reader *)arg;
    read_script(&self->d, &self->log, LONG, self->script);
    return arg;
}

EVERYWHERE(cuts_make_no_difference_to_one_who_waits) {
    for (int script = 0; script < SCRIPTS; script++) {
        transcript whole;
        run_script(&whole, script, 0, CUT_SIZE, CUT_SIZE);
        for (size_t cut = (size_t)script; cut <= CUT_SIZE; cut += SCRIPTS / 2) {
            script_reader self;
            aside feeder;
            self.script = script;
            self.log.size = 0;
            open_delivery(&self.d, cut % 3 * 4, cut, cut + (CUT_SIZE - cut) / 2);
            begin(&feeder, deliver_all, &self.d);
            (void)read_while_delivered(&self);
            (void)finish(&feeder);
            check_transcript(&self.log, &whole);
            close_delivery(&self.d);
        }
    }
}

/* ---- lines and blocks of any size, written and read in any way ---- */

typedef struct storm {
    mtask_stream *in, *out;
    uint64_t seed;
    long records;
} storm;

/* What the next record is: its kind, its size, its letter. Both ends draw the same. */
typedef struct draw {
    uint64_t kind;
    size_t size;
    char letter;
} draw;

static draw draw_next(testing_random *random) {
    draw next;
    next.kind = testing_below(random, 3);
    next.size = testing_below(random, testing_below(random, 50) == 0 ? 60000 : 300);
    next.letter = (char)('a' + testing_below(random, 26));
    return next;
}

static void *storm_out(void *arg) {
    static const char *const ends[] = {"\n", "", "--end--"};
    storm *self = (storm *)arg;
    testing_random same = testing_random_make(self->seed, 0);
    testing_random own = testing_random_make(self->seed, 1);
    char *bytes = (char *)malloc(60000);
    testing_check(bytes != NULL);
    for (long i = 0; i < self->records; i++) {
        draw now = draw_next(&same);
        const char *end = ends[now.kind];
        size_t first = testing_below(&own, now.size + 1);
        struct iovec parts[2] = {{bytes, now.size - first}, {(void *)end, strlen(end)}};
        memset(bytes, now.letter, now.size);
        ck_assert_status(mtask_stream_write(self->out, bytes, first, LONG), MTASK_OK);
        if (testing_below(&own, 3) == 0)
            ck_assert_status(mtask_stream_writev(self->out, parts, 2, LONG), MTASK_OK);
        else
            ck_assert_status(
                mtask_stream_printf(self->out, LONG, "%.*s%s", (int)(now.size - first), bytes, end),
                MTASK_OK);
        if (testing_below(&own, 8) == 0)
            drain(self->out);
    }
    free(bytes);
    ck_assert_status(mtask_stream_close(self->out, LONG), MTASK_OK);
    return arg;
}

/* Reads on by `size` bytes, which have to be this letter; with a limit of time now and then. */
static void storm_take(storm *self, const draw *now, testing_random *own) {
    char bytes[3000];
    for (size_t left = now->size; left > 0;) {
        size_t most = left < sizeof bytes ? left : sizeof bytes, count;
        size_t wanted = testing_below(own, most) + 1;
        bool hurry = testing_below(own, 4) == 0;
        mtask_status status =
            mtask_stream_read_exactly(self->in, bytes, wanted, &count, hurry ? MTASK_NOWAIT : LONG);
        if (!hurry || status != MTASK_TIMEOUT)
            ck_assert_status(status, MTASK_OK);
        for (size_t i = 0; i < count; i++)
            testing_check(bytes[i] == now->letter);
        left -= count;
    }
}

static void *storm_in(void *arg) {
    storm *self = (storm *)arg;
    testing_random same = testing_random_make(self->seed, 0);
    testing_random own = testing_random_make(self->seed, 2);
    for (long i = 0; i < self->records; i++) {
        draw now = draw_next(&same);
        const char *data = NULL;
        size_t size = now.size;
        mtask_status status = MTASK_TIMEOUT;
        bool hurry = testing_below(&own, 3) == 0;
        if (now.kind == 1)
            storm_take(self, &now, &own);
        while (now.kind != 1 && status == MTASK_TIMEOUT) {
            status = now.kind == 0 ? mtask_stream_read_line(self->in, (char **)&data, &size,
                                                            hurry ? MTASK_NOWAIT : LONG)
                                   : mtask_stream_read_until(self->in, "--end--", 7, &data, &size,
                                                             hurry ? MTASK_NOWAIT : LONG);
            hurry = false;
        }
        if (now.kind == 1)
            continue;
        ck_assert_status(status, MTASK_OK);
        ck_assert_uint_eq(size, now.size + (now.kind == 2 ? 7 : 0));
        for (size_t at = 0; at < now.size; at++)
            testing_check(data[at] == now.letter);
    }
    check_end(self->in);
    return arg;
}

START_TEST(whatever_is_written_is_read) {
    storm self = {.seed = testing_seed(), .records = testing_scale(500)};
    for (int where = 0; where < PLACES; where++) {
        mtask_stream_desc desc = {.buffer = where % 2 == 0 ? 0 : 700};
        int ends[2];
        if (where % 3 == 0)
            open_pair(ends);
        else if (where % 3 == 1)
            open_tcp(ends);
        else
            open_pipe(ends);
        self.in = open_stream(ends[0], &desc);
        self.out = open_stream(ends[1], &desc);
        run_both(storm_in, &self, storm_out, &self, (place)where);
        mtask_stream_destroy(self.in);
        mtask_stream_destroy(self.out);
        self.seed++;
    }
}
END_TEST

TESTING_MAIN(
    "mtask_stream", fill_shows_what_has_come_and_takes_nothing,
    fill_that_ends_early_shows_what_is_there, a_view_of_any_size_up_to_the_limit_can_be_filled,
    a_view_stays_until_the_next_read, read_takes_what_there_is,
    read_exactly_gets_all_or_tells_how_much, read_exactly_is_bound_by_no_buffer_and_no_limit,
    marks_are_found_however_they_are_cut, what_follows_a_mark_stays,
    without_its_mark_the_rest_of_the_input_stays, a_mark_may_hold_zeroes_and_has_at_least_one_byte,
    lines_end_in_newlines_or_with_the_input, a_line_needs_no_place_for_its_size,
    half_a_line_waits_for_its_end, lines_and_other_reads_take_turns,
    a_line_may_be_as_long_as_the_limit, a_longer_line_is_refused_and_stays,
    after_a_line_that_is_too_long_the_next_can_be_read, a_limit_bounds_what_stands_before_a_mark,
    lines_are_limited_by_default, data_come_before_the_end, an_input_may_be_empty,
    after_the_end_of_the_input_one_can_write, the_output_can_end_first,
    only_a_socket_can_be_shut_down, a_reset_is_told_after_what_came_before,
    a_wait_lasts_as_long_as_it_may, no_wait_is_negative, what_comes_while_one_waits_is_read,
    a_canceled_read_loses_nothing, limits_of_time_cut_reads_short,
    on_a_loops_own_stack_nothing_waits, signals_do_not_end_a_read, a_reader_that_waits_uses_no_cpu,
    idle_waits_for_input, little_is_held_back_until_it_is_drained, nothing_can_be_written,
    a_text_that_cannot_be_formatted_is_not_written, texts_of_any_length_are_formatted,
    what_is_held_back_goes_out_before_a_wait_for_input, two_that_talk_need_no_drain,
    what_is_held_back_goes_out_when_its_task_waits_on_a_queue,
    what_is_held_back_goes_out_when_its_task_sleeps, what_cannot_go_out_at_once_goes_later,
    what_cannot_go_out_goes_while_one_waits_for_input, a_stream_that_waits_for_room_can_be_ended,
    a_stream_may_outlive_the_loop_that_wrote, a_slow_reader_slows_the_writer,
    a_huge_write_needs_no_memory, pieces_that_stay_together_may_be_many_and_long,
    each_write_stays_in_one_piece, a_write_that_cannot_begin_can_be_tried_again,
    a_write_that_ends_midway_breaks_the_output, a_write_that_is_canceled_midway_breaks_the_output,
    a_write_that_is_canceled_before_it_began_can_be_tried_again,
    a_writer_may_give_up_waiting_for_its_turn, a_reader_that_went_away_is_told_again_and_again,
    a_writer_is_told_when_its_reader_goes, one_reads_while_another_writes,
    a_stream_goes_from_place_to_place, two_loops_may_begin_with_a_stream_at_once,
    a_stream_may_be_closed_from_elsewhere, a_stream_may_end_before_its_loop_looks,
    loops_come_and_go_while_others_write, close_sends_what_is_held_back, a_closed_stream_is_broken,
    input_of_a_closed_stream_can_still_be_read, close_waits_no_longer_than_it_may,
    close_waits_for_room, whoever_waits_is_told_of_the_close,
    writers_that_wait_are_told_of_the_close, abort_resets_the_connection, destroy_sends_nothing,
    nothing_is_left_of_a_stream, a_file_follows_what_was_written_before,
    a_file_may_be_empty_or_shorter_than_said, a_file_goes_through_a_pipe_too,
    streams_stand_on_all_kinds_of_descriptors, a_file_is_read_to_its_end,
    a_direction_that_is_not_there_is_refused, what_is_no_descriptor_becomes_no_stream,
    connect_makes_a_stream, a_task_that_waits_for_input_holds_no_buffer,
    a_thread_that_waits_for_input_holds_no_buffer, after_a_long_line_the_memory_is_given_back,
    the_script_of_lines_reads_what_it_should, where_the_input_is_cut_makes_no_difference,
    cuts_make_no_difference_to_one_who_waits, whatever_is_written_is_read)
