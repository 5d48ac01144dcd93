// clang -g -O1 -fsanitize=fuzzer,address,undefined -pthread -o /tmp/fuzz_conn tests/fuzz_conn.c
/* fuzz_conn.c - libFuzzer's target for connections: their two framings, and the proof of a key

   The first byte of an input says what is played, and how:

     a stream   bytes in pieces, some with descriptors, to a connection on a stream socket; each
                answer is compared with that of a model, an array and an index
     packets    the same to the end of a pipe; every answer has to be one that can be
     a client   of a listener that wants a proof: sends frames that are right, wrong or neither
     a listener likewise, to which a client connects

   Whatever comes, it ends in a definite status, nobody is let in without a proof, and no descriptor
   is left behind.

       /tmp/fuzz_conn -max_total_time=60 tests/fuzz/conn */
#define MTASK_IMPLEMENTATION
#include "../mtask_proc.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum {
    MOST_BYTES = 90000, /* of what is sent in all */
    MOST_CALLS = 100,
    MOST_PIECES = 100, /* that are cut as the input says */
    MOST_FDS = 16,
    HUGE_LENGTH = 1 << 30, /* of a message for which there might be no memory */
};

typedef struct input {
    const uint8_t *data;
    size_t size;
} input;

static size_t take_byte(input *in) {
    if (in->size == 0)
        return 0;
    in->size--;
    return *in->data++;
}

static size_t take_number(input *in) {
    size_t high = take_byte(in);
    return high << 8 | take_byte(in);
}

/* Takes a count, and so many bytes. */
static input take_bytes(input *in, size_t most) {
    input taken;
    taken.size = take_byte(in) % (most + 1);
    if (taken.size > in->size)
        taken.size = in->size;
    taken.data = in->data;
    in->data += taken.size;
    in->size -= taken.size;
    return taken;
}

static void fail(const char *what, size_t number) {
    fprintf(stderr, "%s: %zu\n", what, number);
    abort();
}

static void check(bool holds, const char *what, size_t number) {
    if (!holds)
        fail(what, number);
}

static void check_ok(mtask_status status, const char *what) {
    if (status != MTASK_OK)
        fail(what, (size_t)status);
}

/* ---- bytes in pieces ---- */

typedef struct run {
    bool packets; /* each piece is one */
    bool waits;   /* in a task, while another one feeds */
    size_t limit;
    input ops;
    input cuts;
    uint8_t *data; /* all that is to be sent */
    size_t size;
    size_t fed;
    bool ended;
    size_t at;   /* so much was received */
    bool broken; /* for good */
    size_t cut;  /* the next to use */
    mtask_conn *conn;
    mtask_conn *peer; /* the other end of a pipe */
    int sink;         /* where it is fed */
} run;

/* What is sent: literal bytes, and runs of one, so that messages can be long. */
static void lay_out(run *self, input in) {
    self->data = (uint8_t *)malloc(MOST_BYTES);
    check(self->data != NULL, "no memory", 0);
    while (in.size > 0) {
        size_t code = take_byte(&in), count = code % 64 + 1;
        if (code >= 192) {
            count = take_number(&in) % 40000;
            if (count > MOST_BYTES - self->size)
                return;
            memset(self->data + self->size, (int)code, count);
        } else {
            count = count < in.size ? count : in.size;
            if (count > MOST_BYTES - self->size)
                return;
            memcpy(self->data + self->size, in.data, count);
            in.data += count;
            in.size -= count;
        }
        self->size += count;
    }
}

/* Sends bytes, and `count` descriptors with them; how many of the bytes there was room for. */
static size_t send_piece(int fd, const uint8_t *data, size_t size, size_t count) {
    union {
        char bytes[CMSG_SPACE(64 * sizeof(int))];
        struct cmsghdr align;
    } control;
    struct iovec part = {(void *)data, size};
    struct msghdr message;
    int none = 0;
    ssize_t done;
    memset(&message, 0, sizeof message);
    memset(&control, 0, sizeof control);
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    if (count > 0) {
        message.msg_control = control.bytes;
        message.msg_controllen = CMSG_SPACE(count * sizeof(int));
        control.align.cmsg_level = SOL_SOCKET;
        control.align.cmsg_type = SCM_RIGHTS;
        control.align.cmsg_len = CMSG_LEN(count * sizeof(int));
        for (size_t i = 0; i < count; i++)
            memcpy(CMSG_DATA(&control.align) + i * sizeof(int), &none, sizeof none);
    }
    done = sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    return done < 0 ? 0 : (size_t)done;
}

/* Sends the next piece, or the end. */
static void feed_next(run *self) {
    size_t left = self->size - self->fed, piece = left, count = 0;
    if (self->ended)
        return;
    if (left == 0) {
        self->ended = true;
        if (self->peer != NULL)
            check_ok(mtask_conn_close(self->peer), "closing");
        else
            check(close(self->sink) == 0, "closing", 0);
        return;
    }
    if (self->cuts.size > 0 && self->cut < MOST_PIECES) {
        size_t cut = self->cuts.data[self->cut++ % self->cuts.size];
        piece = cut < 128 ? cut % 40 + 1 : cut < 250 ? cut * cut : 0;
        count = cut % 8 == 7 ? cut % 60 : 0;
    }
    if (piece == 0 && !self->packets)
        piece = 1;
    if (self->packets && piece > 20000)
        piece = 20000;
    piece = piece < left ? piece : left;
    self->fed += send_piece(self->sink, self->data + self->fed, piece, count);
}

/* ---- what the model answers ---- */

/* What is known of the next message. */
typedef struct next {
    mtask_status status; /* of receiving it into enough memory */
    size_t head;
    uint64_t size; /* once its head is there; else 0 */
} next;

static uint64_t big_endian(const uint8_t *bytes, size_t size) {
    uint64_t number = 0;
    for (size_t i = 0; i < size; i++)
        number = number << 8 | bytes[i];
    return number;
}

static next model(const run *self) {
    const uint8_t *bytes = self->data + self->at;
    size_t have = (self->waits ? self->size : self->fed) - self->at;
    next answer = {self->waits || self->ended ? MTASK_CLOSED : MTASK_TIMEOUT, 4, 0};
    if (self->broken)
        answer.status = MTASK_BROKEN;
    if (self->broken || have < 4)
        return answer;
    answer.size = big_endian(bytes, 4);
    if (answer.size == UINT32_MAX) {
        answer.head = 12;
        answer.size = have < 12 ? 0 : big_endian(bytes + 4, 8);
        if (have < 12)
            return answer;
    } else if (answer.size > INT32_MAX) {
        answer.status = MTASK_BROKEN;
        return answer;
    }
    if (self->limit > 0 && answer.size > self->limit)
        answer.status = MTASK_OVERFLOW;
    else if (have - answer.head >= answer.size)
        answer.status = MTASK_OK;
    return answer;
}

/* Whether an answer other than the model's is as good: the length alone may be reason enough, and who
   does not wait may find nothing of what another task sends. */
static bool also_right(const run *self, const next *expected, mtask_status status) {
    if (status == MTASK_TIMEOUT)
        return self->waits;
    return expected->size > HUGE_LENGTH && (status == MTASK_OVERFLOW || status == MTASK_BROKEN);
}

/* Whether this can be the answer to a wait for a message at all. */
static bool possible(mtask_status status) {
    return status == MTASK_OK || status == MTASK_TIMEOUT || status == MTASK_CLOSED ||
           status == MTASK_OVERFLOW || status == MTASK_BROKEN;
}

/* Takes note of an answer to a call that takes messages of any size. */
static void note_status(run *self, const next *expected, mtask_status status) {
    check(possible(status), mtask_status_name(status), self->at);
    if (self->packets)
        return;
    if (status != expected->status && !also_right(self, expected, status)) {
        fprintf(stderr, "%s, expected %s, at %zu of %zu (fed %zu%s, limit %zu)\n",
                mtask_status_name(status), mtask_status_name(expected->status), self->at,
                self->size, self->fed, self->ended ? " and the end" : "", self->limit);
        abort();
    }
    if (status == MTASK_BROKEN || status == MTASK_OVERFLOW)
        self->broken = true;
}

/* Takes note of a message. */
static void note_message(run *self, const next *expected, const void *data, size_t size) {
    check(self->limit == 0 || size <= self->limit, "longer than the limit", size);
    if (self->packets)
        return;
    check(size == expected->size, "another size", size);
    check(size == 0 || memcmp(data, self->data + self->at + expected->head, size) == 0,
          "other bytes", size);
    self->at += expected->head + size;
}

/* ---- calls ---- */

static int64_t patience(const run *self, size_t code) {
    return self->waits && code % 4 != 3 ? MTASK_FOREVER : MTASK_NOWAIT;
}

static mtask_status call_recv(run *self, int64_t timeout) {
    mtask_buf message = {NULL, 0, 0};
    next expected = model(self);
    mtask_status status = mtask_conn_recv(self->conn, &message, timeout);
    note_status(self, &expected, status);
    if (status == MTASK_OK)
        note_message(self, &expected, message.data, message.size);
    mtask_buf_free(&message);
    return status;
}

static mtask_status call_recv_fds(run *self, size_t capacity, int64_t timeout) {
    mtask_buf message = {NULL, 0, 0};
    int fds[MOST_FDS];
    size_t count = 99;
    next expected = model(self);
    mtask_status status = mtask_conn_recv_fds(self->conn, &message, fds, capacity, &count, timeout);
    note_status(self, &expected, status);
    check(count <= (status == MTASK_OK ? capacity : 0), "so many descriptors", count);
    for (size_t i = 0; i < count; i++)
        check(close(fds[i]) == 0, "no descriptor", (size_t)fds[i]);
    if (status == MTASK_OK)
        note_message(self, &expected, message.data, message.size);
    mtask_buf_free(&message);
    return status;
}

static mtask_status call_recv_into(run *self, size_t capacity, int64_t timeout) {
    char room[256];
    size_t size = 99999;
    next expected = model(self);
    mtask_status status = mtask_conn_recv_into(self->conn, room, capacity, &size, timeout);
    bool within = self->limit == 0 || expected.size <= self->limit;
    if (status == MTASK_OVERFLOW && !self->packets && !self->broken && within &&
        expected.size > capacity && (size == expected.size || expected.size <= HUGE_LENGTH)) {
        check(size == expected.size, "how long it is", size);
        return status; /* it can still be received */
    }
    if (status == MTASK_OVERFLOW && self->packets) {
        check(possible(status), "status", 0);
        return status;
    }
    check(self->packets || status != MTASK_OK || expected.size <= capacity, "it fits", size);
    note_status(self, &expected, status);
    if (status == MTASK_OK) {
        check(size <= capacity, "more than there is room for", size);
        note_message(self, &expected, room, size);
    }
    return status;
}

static void call_poll(run *self, int64_t timeout) {
    next expected = model(self);
    mtask_status status = mtask_conn_poll(self->conn, timeout);
    check(status == MTASK_OK || status == MTASK_TIMEOUT, "poll", (size_t)status);
    if (!self->packets && !self->waits && expected.status != MTASK_TIMEOUT && !self->broken)
        check(status == MTASK_OK, "there is a message", self->at);
}

static void call(run *self, size_t code) {
    size_t number = code / 8;
    switch (code % 8) {
    case 0:
    case 1:
        (void)call_recv(self, patience(self, number));
        return;
    case 2:
    case 3:
        (void)call_recv_into(self, number * 8, patience(self, number));
        return;
    case 4:
        (void)call_recv_fds(self, number % (MOST_FDS + 1), patience(self, number));
        return;
    case 5:
        call_poll(self, patience(self, number));
        return;
    default:
        if (self->waits)
            (void)mtask_yield();
        else
            feed_next(self);
    }
}

/* Makes all calls again and again, then receives what is left, until that ends. */
static void *receive_all(void *arg) {
    run *self = (run *)arg;
    mtask_status status = MTASK_OK;
    for (size_t i = 0; self->ops.size > 0 && i < MOST_CALLS && !self->broken; i++) {
        call(self, self->ops.data[i % self->ops.size]);
        if (!self->waits && i % self->ops.size == self->ops.size - 1)
            feed_next(self);
    }
    while (status != MTASK_CLOSED && status != MTASK_BROKEN) {
        if (!self->waits)
            feed_next(self);
        status = call_recv(self, self->waits ? MTASK_FOREVER : MTASK_NOWAIT);
    }
    while (!self->waits && !self->ended)
        feed_next(self);
    if (self->packets) /* an empty packet looks like an end */
        return arg;
    check(call_recv(self, MTASK_FOREVER) == status, "it ends twice", (size_t)status);
    check(call_recv_into(self, 8, MTASK_FOREVER) == status, "it ends twice", (size_t)status);
    return arg;
}

static void *feed_all(void *arg) {
    run *self = (run *)arg;
    while (!self->ended && !self->broken) {
        feed_next(self);
        (void)mtask_yield();
    }
    return arg;
}

static void *receive_and_feed(void *arg) {
    mtask_future *feeder = NULL;
    check_ok(mtask_go(feed_all, arg, &feeder), "no task");
    (void)receive_all(arg);
    ((run *)arg)->broken = true; /* nobody receives any more */
    (void)mtask_future_wait(feeder, MTASK_FOREVER);
    mtask_future_release(feeder);
    return arg;
}

static void play_pieces(input *in, size_t flags, bool packets) {
    static const size_t limits[] = {0, 0, 20, 30000};
    int fds[2];
    run self;
    memset(&self, 0, sizeof self);
    self.packets = packets;
    self.waits = (flags & 4) != 0;
    self.limit = limits[flags >> 3 & 3];
    self.ops = take_bytes(in, 31);
    self.cuts = take_bytes(in, 31);
    lay_out(&self, *in);
    if (packets) {
        check_ok(mtask_pipe(&self.conn, &self.peer, (flags & 32) != 0), "no pipe");
        self.sink = mtask_conn_fd(self.peer);
    } else {
        check(socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0, "no sockets", 0);
        check_ok(mtask_conn_open(&self.conn, fds[0]), "no connection");
        self.sink = fds[1];
    }
    mtask_conn_set_limit(self.conn, self.limit);
    if (self.waits)
        check_ok(mtask_loop_run(receive_and_feed, &self, NULL), "no loop");
    else
        (void)receive_all(&self);
    check_ok(mtask_conn_close(self.conn), "closing");
    if (!self.ended && self.peer != NULL)
        check_ok(mtask_conn_close(self.peer), "closing");
    else if (!self.ended)
        close(self.sink);
    free(self.data);
}

/* ---- proofs ---- */

#define KEY "the key"

/* A digest that is good enough to play with. */
static bool toy_hmac(const char *digest, const void *key, size_t key_size, const void *data,
                     size_t size, unsigned char *mac, size_t *mac_size, void *ctx) {
    uint64_t hash = UINT64_C(14695981039346656037) + (uint8_t)digest[0];
    (void)ctx;
    if (strcmp(digest, "sha256") == 0)
        *mac_size = 32;
    else if (strcmp(digest, "md5") == 0)
        *mac_size = 16;
    else
        return false;
    for (size_t i = 0; i < key_size + size; i++) {
        hash ^= i < key_size ? ((const uint8_t *)key)[i] : ((const uint8_t *)data)[i - key_size];
        hash *= UINT64_C(1099511628211);
    }
    for (size_t i = 0; i < *mac_size; i++) {
        mac[i] = (uint8_t)(hash >> 32);
        hash = (hash ^ i) * UINT64_C(1099511628211);
    }
    return true;
}

/* The side of a proof that is played. */
typedef struct proof {
    bool listens; /* it is the listener */
    bool md5;     /* the other side allows it */
    input script;
    int socket;          /* listening, or: */
    char *address;       /* where to connect to */
    int fd;              /* connected */
    uint8_t heard[1024]; /* what the other side said, */
    size_t heard_size;   /* of which so much, */
    size_t heard_at;     /* is told from here on: the next frame */
    uint8_t asked[256];  /* its last question, without its head */
    size_t asked_size;
    bool proved; /* it was given a right answer */
    mtask_conn_listener *listener;
    mtask_status status; /* what the other side was told */
} proof;

static mtask_conn_desc describe(const proof *self) {
    mtask_conn_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.key = KEY;
    desc.key_size = strlen(KEY);
    desc.hmac = toy_hmac;
    desc.md5 = self->md5;
    desc.limit = 1000;
    desc.patience = MTASK_FOREVER;
    return desc;
}

static void say(proof *self, const void *data, size_t size) {
    (void)mtask_io_write(self->fd, data, size, NULL, MTASK_NOWAIT);
}

static void say_frame(proof *self, const void *data, size_t size) {
    uint8_t head[4] = {0, 0, (uint8_t)(size >> 8), (uint8_t)size};
    say(self, head, 4);
    say(self, data, size);
}

/* Looks for a question in what was said. */
static void hear(proof *self) {
    size_t count = 0;
    for (int turn = 0; turn < 4; turn++)
        (void)mtask_yield();
    if (mtask_io_read(self->fd, self->heard + self->heard_size,
                      sizeof self->heard - self->heard_size, &count, MTASK_NOWAIT) == MTASK_OK)
        self->heard_size += count;
    while (self->heard_size - self->heard_at >= 4) {
        const uint8_t *frame = self->heard + self->heard_at + 4;
        size_t size = (size_t)big_endian(frame - 4, 4);
        if (size > self->heard_size - self->heard_at - 4)
            return;
        if (size > 11 && size <= 256 && memcmp(frame, "#CHALLENGE#", 11) == 0) {
            self->asked_size = size - 11;
            memcpy(self->asked, frame + 11, self->asked_size);
        }
        self->heard_at += 4 + size;
    }
}

/* Answers the last question in some way, of which a few are right. */
static void answer(proof *self, size_t code) {
    static const char *const tags[] = {"{sha256}", "{md5}", "", "{sha384}"};
    uint8_t frame[300];
    const char *tag = tags[code & 3];
    size_t at = strlen(tag), size = 0;
    bool sha = (code & 3) == 0;
    memcpy(frame, tag, at);
    (void)toy_hmac(sha ? "sha256" : "md5", KEY, strlen(KEY), self->asked, self->asked_size,
                   frame + at, &size, NULL);
    if ((code & 3) != 3 && (sha || self->md5) && code < 128 && self->asked_size > 0)
        self->proved = true;
    if (code >= 128) /* it is cut, or its first byte is wrong */
        size = (code >> 2) % size;
    if (code >= 192)
        frame[at] ^= 1;
    say_frame(self, frame, at + size);
}

static void ask(proof *self, size_t code) {
    static const char *const heads[] = {"#CHALLENGE#{sha256}", "#CHALLENGE#{md5}", "#CHALLENGE#",
                                        "#CHALLENGE#{sha512}"};
    uint8_t frame[300];
    const char *head = heads[code & 3];
    size_t at = strlen(head), size = (code & 4) != 0 ? code : (code & 3) == 2 ? 20 : 40;
    memcpy(frame, head, at);
    memset(frame + at, 'r', size);
    say_frame(self, frame, at + size);
}

/* Plays one step of the script. */
static void step(proof *self) {
    size_t code = take_byte(&self->script), size;
    switch (code % 8) {
    case 0: /* bytes as they are */
        size = code / 8 + 1 < self->script.size ? code / 8 + 1 : self->script.size;
        say(self, self->script.data, size);
        self->script.data += size;
        self->script.size -= size;
        return;
    case 1:
        say_frame(self, "#WELCOME#", 9);
        return;
    case 2:
        say_frame(self, "#FAILURE#", code / 8 % 10);
        return;
    case 3:
    case 4:
        hear(self);
        answer(self, take_byte(&self->script));
        return;
    case 5:
        ask(self, take_byte(&self->script));
        return;
    default:
        hear(self);
    }
}

static void *play_side(void *arg) {
    proof *self = (proof *)arg;
    if (self->listens)
        check_ok(mtask_tcp_accept(self->socket, &self->fd, NULL, MTASK_FOREVER), "accept");
    else
        check_ok(mtask_tcp_connect(&self->fd, self->address, MTASK_FOREVER), "connect");
    while (self->script.size > 0)
        step(self);
    hear(self);
    check_ok(mtask_io_close(self->fd), "closing");
    return arg;
}

/* The other side: it has to hear of an end, and lets nobody in who has not proved it. */
static void *play_other_side(void *arg) {
    proof *self = (proof *)arg;
    mtask_conn_desc desc = describe(self);
    mtask_conn *conn = (mtask_conn *)self;
    mtask_buf message = {NULL, 0, 0};
    mtask_status status = self->listens
                              ? mtask_conn_connect(&conn, self->address, &desc, MTASK_FOREVER)
                              : mtask_conn_listener_accept(self->listener, &conn, MTASK_FOREVER);
    self->status = status;
    check(status == MTASK_OK || status == MTASK_AUTH, mtask_status_name(status), 0);
    check((status == MTASK_OK) == (conn != NULL), "a connection", (size_t)status);
    check(status != MTASK_OK || self->proved, "let in without a proof", 0);
    while (status == MTASK_OK) {
        status = mtask_conn_recv(conn, &message, MTASK_FOREVER);
        check(possible(status), mtask_status_name(status), 0);
    }
    mtask_buf_free(&message);
    check_ok(mtask_conn_close(conn), "closing");
    return arg;
}

static void *play_both_sides(void *arg) {
    mtask_future *other = NULL;
    check_ok(mtask_go(play_other_side, arg, &other), "no task");
    (void)play_side(arg);
    (void)mtask_future_wait(other, MTASK_FOREVER);
    mtask_future_release(other);
    return arg;
}

static void play_proof(input *in, size_t flags, bool listens) {
    static char address[64];
    mtask_conn_desc desc;
    proof self;
    memset(&self, 0, sizeof self);
    self.listens = listens;
    self.md5 = (flags & 4) != 0;
    self.script = *in;
    self.address = address;
    snprintf(address, sizeof address, "unix:@mtask-fuzz-conn-%ld", (long)getpid());
    desc = describe(&self);
    if (listens)
        check_ok(mtask_tcp_listen(&self.socket, address, NULL), "no socket");
    else
        check_ok(mtask_conn_listener_open(&self.listener, address, &desc), "no listener");
    check_ok(mtask_loop_run(play_both_sides, &self, NULL), "no loop");
    if (listens)
        check_ok(mtask_io_close(self.socket), "closing");
    else
        mtask_conn_listener_close(self.listener);
}

/* ---- one input ---- */

/* The lowest number that no descriptor has. */
static int free_fd(void) {
    int fd = dup(0);
    close(fd);
    return fd;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static bool warm; /* what mtask opens once is open */
    input in = {data, size};
    size_t flags = take_byte(&in);
    int before = free_fd();
    if ((flags & 3) < 2)
        play_pieces(&in, flags, (flags & 3) == 1);
    else
        play_proof(&in, flags, (flags & 3) == 3);
    if (warm)
        check(free_fd() == before, "descriptors were left", (size_t)free_fd());
    warm = warm || (flags & 3) >= 2;
    return 0;
}
