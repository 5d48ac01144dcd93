// clang -g -O1 -fsanitize=fuzzer,address,undefined -pthread -o /tmp/fuzz_stream tests/fuzz_stream.c
/* fuzz_stream.c - libFuzzer's target for the reader of streams

   The first bytes of an input say where the reader runs, how large its buffer and its limit are, what
   it calls, and how the rest, which it reads, is cut. Each answer is compared with that of a model: an
   array and an index. A reader that does not wait knows exactly what has come; for one that
   waits while a task sends, only what depends on chance is left open.

       /tmp/fuzz_stream -max_total_time=60 tests/fuzz/stream */
#define MTASK_IMPLEMENTATION
#include "../mtask_io.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MOST_CALLS 600

/* What is asked of the stream. */
typedef enum op {
    OP_LINE,
    OP_UNTIL,
    OP_EXACTLY,
    OP_FILL,
    OP_READ,
    OP_SKIP,
    OP_FEED, /* or let the one who feeds go on */
    OP_IDLE,
    OPS
} op;

static const char *const op_names[OPS] = {"read_line", "read_until", "read_exactly", "fill",
                                          "read",      "skip",       "feed",         "idle"};

static const char *const marks[] = {"\n", "\r\n\r\n", "aab", "--\n--"};

/* A plan, and what has become of it. */
typedef struct run {
    bool in_loop, waits; /* the reader runs in a task; another one feeds it */
    bool on_pipe;
    size_t limit, buffer;
    const uint8_t *ops, *cuts;
    size_t op_count, cut_count;
    const uint8_t *data; /* the model: all that is to be read */
    size_t size;
    size_t fed;   /* so much was sent */
    bool ended;   /* and then the end */
    size_t at;    /* so much was taken out */
    bool saw_end; /* the stream was told of the end */
    size_t cut;   /* the next to use */
    mtask_stream *stream;
    int sink; /* the other end */
    op now;
} run;

static void fail(const run *self, const char *what, size_t got) {
    fprintf(stderr, "%s at %zu of %zu (fed %zu%s, limit %zu, buffer %zu, %s): %s: %zu\n",
            op_names[self->now], self->at, self->size, self->fed, self->ended ? " and the end" : "",
            self->limit, self->buffer, self->waits ? "waits" : "does not wait", what, got);
    abort();
}

static void check(const run *self, bool holds, const char *what, size_t got) {
    if (!holds)
        fail(self, what, got);
}

/* ---- the input ---- */

static size_t take_byte(const uint8_t **data, size_t *size) {
    if (*size == 0)
        return 0;
    --*size;
    return *(*data)++;
}

/* Takes a count, and so many bytes. */
static const uint8_t *take_bytes(const uint8_t **data, size_t *size, size_t most, size_t *count) {
    const uint8_t *bytes;
    *count = take_byte(data, size) % (most + 1);
    if (*count > *size)
        *count = *size;
    bytes = *data;
    *data += *count;
    *size -= *count;
    return bytes;
}

static void plan(run *self, const uint8_t *data, size_t size) {
    size_t flags = take_byte(&data, &size);
    memset(self, 0, sizeof *self);
    self->waits = (flags & 1) != 0;
    self->in_loop = self->waits || (flags & 2) != 0;
    self->on_pipe = (flags & 4) != 0;
    self->limit = take_byte(&data, &size) % 64 + 1;
    self->buffer = take_byte(&data, &size) % 80;
    self->ops = take_bytes(&data, &size, 31, &self->op_count);
    self->cuts = take_bytes(&data, &size, 15, &self->cut_count);
    self->data = data;
    self->size = size < 4096 ? size : 4096;
}

/* Sends the next piece, or the end. */
static void feed_next(run *self) {
    size_t left = self->size - self->fed, piece = left;
    if (self->ended)
        return;
    if (left == 0) {
        self->ended = true;
        (void)mtask_io_close(self->sink);
        return;
    }
    if (self->cut_count > 0)
        piece = (size_t)self->cuts[self->cut++ % self->cut_count] % 40 + 1;
    piece = piece < left ? piece : left;
    if (write(self->sink, self->data + self->fed, piece) != (ssize_t)piece)
        fail(self, "there was no room", piece);
    self->fed += piece;
}

/* ---- what the model answers ---- */

/* How much has come, as far as the reader can rely on it. */
static size_t come(const run *self) {
    return (self->waits ? self->size : self->fed) - self->at;
}

/* Whether that is all there will be. */
static bool all_come(const run *self) {
    return self->waits || self->ended;
}

static const uint8_t *unread(const run *self) {
    return self->data + self->at;
}

/* Where `mark` begins in what has come; SIZE_MAX: nowhere. */
static size_t find_mark(const run *self, const char *mark) {
    const void *found = memmem(unread(self), come(self), mark, strlen(mark));
    return found == NULL ? SIZE_MAX : (size_t)((const uint8_t *)found - unread(self));
}

/* What read_until answers; *size becomes how much it shows. */
static mtask_status model_until(const run *self, const char *mark, size_t *size) {
    size_t found = find_mark(self, mark), length = strlen(mark);
    *size = come(self);
    if (found <= self->limit) {
        *size = found + length;
        return MTASK_OK;
    }
    if (*size >= self->limit + length)
        return MTASK_OVERFLOW;
    return all_come(self) ? MTASK_CLOSED : MTASK_TIMEOUT;
}

/* What read_line answers; *size becomes how long the line is, *taken how much of the input. */
static mtask_status model_line(const run *self, size_t *size, size_t *taken) {
    const uint8_t *text = unread(self);
    size_t found = find_mark(self, "\n"), have = come(self);
    *taken = found == SIZE_MAX ? have : found + 1;
    *size = found == SIZE_MAX ? have : found;
    if (*size > 0 && text[*size - 1] == '\r' && (found != SIZE_MAX || !all_come(self)))
        --*size; /* it belongs, or may belong, to the end */
    if (*size > self->limit)
        return MTASK_OVERFLOW;
    if (found != SIZE_MAX)
        return MTASK_OK;
    if (!all_come(self))
        return MTASK_TIMEOUT;
    return have > 0 ? MTASK_OK : MTASK_CLOSED;
}

/* ---- calls, and whether they answer what the model does ---- */

/* Whether the reader may find nothing where the model has something, for it does not wait now. */
static bool may_miss(const run *self, int64_t timeout) {
    return self->waits && timeout == MTASK_NOWAIT;
}

static void check_status(const run *self, mtask_status status, mtask_status expected,
                         int64_t timeout) {
    if (status == expected || (status == MTASK_TIMEOUT && may_miss(self, timeout)))
        return;
    fprintf(stderr, "%s, expected %s\n", mtask_status_name(status), mtask_status_name(expected));
    fail(self, "status", (size_t)status);
}

static void check_data(const run *self, const void *data, size_t size) {
    check(self, size <= self->size - self->at, "more than there is", size);
    check(self, size == 0 || memcmp(data, unread(self), size) == 0, "other bytes", size);
}

static void call_line(run *self, int64_t timeout) {
    size_t size = 99999, expected_size, taken;
    char *line = (char *)self;
    mtask_status expected = model_line(self, &expected_size, &taken);
    mtask_status status = mtask_stream_read_line(self->stream, &line, &size, timeout);
    check_status(self, status, expected, timeout);
    if (status == MTASK_CLOSED)
        self->saw_end = true;
    if (status != MTASK_OK) {
        check(self, line == NULL, "a line", 0);
        return;
    }
    check(self, size == expected_size, "size", size);
    check_data(self, line, size);
    check(self, line[size] == '\0', "it does not end in a zero", size);
    memset(line, '#', size + 1); /* it is the caller's */
    self->at += taken;
}

static void call_until(run *self, const char *mark, int64_t timeout) {
    size_t size = 99999, expected_size;
    const char *data = NULL;
    mtask_status expected = model_until(self, mark, &expected_size);
    mtask_status status =
        mtask_stream_read_until(self->stream, mark, strlen(mark), &data, &size, timeout);
    check_status(self, status, expected, timeout);
    check_data(self, data, size);
    if (status == MTASK_OK || status == MTASK_CLOSED)
        check(self, size == expected_size, "size", size);
    if (status == MTASK_OK)
        self->at += size;
}

static void call_exactly(run *self, size_t wanted, int64_t timeout) {
    char bytes[256];
    size_t count = 99999, have = come(self);
    mtask_status expected =
        have >= wanted ? MTASK_OK : (all_come(self) ? MTASK_CLOSED : MTASK_TIMEOUT);
    mtask_status status = mtask_stream_read_exactly(self->stream, bytes, wanted, &count, timeout);
    check_status(self, status, expected, timeout);
    check_data(self, bytes, count);
    if (status == expected)
        check(self, count == (have < wanted ? have : wanted), "size", count);
    self->at += count;
}

static void call_fill(run *self, size_t least, int64_t timeout) {
    const char *data = NULL;
    size_t size = 99999, have = come(self);
    mtask_status status = mtask_stream_fill(self->stream, least, &data, &size, timeout);
    mtask_status expected = MTASK_OK;
    if (least > self->limit)
        expected = MTASK_OVERFLOW;
    else if (have < least)
        expected = all_come(self) ? MTASK_CLOSED : MTASK_TIMEOUT;
    check_status(self, status, expected, timeout);
    check_data(self, data, size);
    if (status == MTASK_OK)
        check(self, size >= least, "less than wanted", size);
    if (status == MTASK_CLOSED || (status == MTASK_TIMEOUT && !self->waits))
        check(self, size == have, "not all that has come", size);
}

static void call_read(run *self, size_t capacity, int64_t timeout) {
    char bytes[256];
    size_t count = 99999, have = come(self);
    mtask_status expected =
        have > 0 || capacity == 0 ? MTASK_OK : (all_come(self) ? MTASK_CLOSED : MTASK_TIMEOUT);
    mtask_status status = mtask_stream_read(self->stream, bytes, capacity, &count, timeout);
    check_status(self, status, expected, timeout);
    check(self, count <= capacity, "more than wanted", count);
    check(self, status == MTASK_OK ? count > 0 || capacity == 0 : count == 0, "count", count);
    check_data(self, bytes, count);
    self->at += count;
}

/* Takes out of the buffer what is there for sure, or is refused. */
static void call_skip(run *self, size_t size) {
    const char *data = NULL;
    size_t there = 99999;
    mtask_status status = mtask_stream_fill(self->stream, 0, &data, &there, MTASK_NOWAIT);
    check_status(self, status, MTASK_OK, MTASK_FOREVER);
    check_data(self, data, there);
    status = mtask_stream_skip(self->stream, size);
    check_status(self, status, size <= there ? MTASK_OK : MTASK_INVALID, MTASK_FOREVER);
    if (status == MTASK_OK)
        self->at += size;
}

static void call_idle(run *self, int64_t timeout) {
    mtask_status expected =
        come(self) > 0 ? MTASK_OK : (all_come(self) ? MTASK_CLOSED : MTASK_TIMEOUT);
    check_status(self, mtask_stream_idle(self->stream, timeout), expected, timeout);
}

static void call(run *self, uint8_t code) {
    size_t number = code >> 3;
    int64_t timeout =
        self->waits && (number & 3) != 3 ? MTASK_FOREVER : MTASK_NOWAIT; /* of some, both */
    self->now = (op)(code % OPS);
    switch (self->now) {
    case OP_LINE:
        call_line(self, timeout);
        return;
    case OP_UNTIL:
        call_until(self, marks[number / 4 % 4], timeout);
        return;
    case OP_EXACTLY:
        call_exactly(self, number * number / 4, timeout);
        return;
    case OP_FILL:
        call_fill(self, number * 2, timeout);
        return;
    case OP_READ:
        call_read(self, number * 2, timeout);
        return;
    case OP_SKIP:
        call_skip(self, number);
        return;
    case OP_IDLE:
        call_idle(self, timeout);
        return;
    default:
        if (self->waits)
            (void)mtask_yield();
        else
            feed_next(self);
    }
}

/* ---- one input ---- */

/* Makes all calls of the plan again and again, then reads what is left. */
static void *read_all(void *arg) {
    run *self = (run *)arg;
    for (size_t i = 0; self->op_count > 0 && i < MOST_CALLS && self->at < self->size; i++) {
        call(self, self->ops[i % self->op_count]);
        check(self, !mtask_stream_at_eof(self->stream) || (self->ended && self->at == self->size),
              "at the end", self->at);
        if (!self->waits && i % self->op_count == self->op_count - 1)
            feed_next(self);
    }
    while (!self->waits && !self->ended)
        feed_next(self);
    self->now = OP_READ;
    while (self->at < self->size)
        call_read(self, 256, MTASK_FOREVER);
    call_read(self, 1, MTASK_FOREVER);
    call_line(self, MTASK_FOREVER);
    check(self, mtask_stream_at_eof(self->stream), "not at the end", 0);
    return arg;
}

static void *feed_all(void *arg) {
    run *self = (run *)arg;
    while (!self->ended) {
        feed_next(self);
        for (size_t turn = 0; turn < 3; turn++)
            (void)mtask_yield();
    }
    return arg;
}

static void *read_and_feed(void *arg) {
    run *self = (run *)arg;
    if (self->waits) {
        mtask_future *feeder = NULL;
        check(self, mtask_go(feed_all, self, &feeder) == MTASK_OK, "no task", 0);
        (void)read_all(self);
        (void)mtask_future_wait(feeder, MTASK_FOREVER);
        mtask_future_release(feeder);
    } else {
        (void)read_all(self);
    }
    return arg;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    run self;
    int ends[2];
    mtask_stream_desc desc;
    plan(&self, data, size);
    memset(&desc, 0, sizeof desc);
    desc.buffer = self.buffer;
    desc.limit = self.limit;
    if ((self.on_pipe ? mtask_io_pipe(ends) : mtask_io_pair(ends)) != MTASK_OK)
        fail(&self, "no descriptors", 0);
    self.sink = ends[1];
    if (mtask_stream_open(&self.stream, ends[0], &desc) != MTASK_OK)
        fail(&self, "no stream", 0);
    if (!self.in_loop)
        (void)read_all(&self);
    else if (mtask_loop_run(read_and_feed, &self, NULL) != MTASK_OK)
        fail(&self, "no loop", 0);
    mtask_stream_destroy(self.stream);
    if (!self.ended)
        (void)mtask_io_close(self.sink);
    return 0;
}
