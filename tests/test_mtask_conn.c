/* test_mtask_conn.c - connections: whole messages of any size, time-outs that lose nothing, ends,
   limits, descriptors that go along, several processes at one end; listeners and clients, the proof
   that both know the key, and the same with Python's multiprocessing.connection at the other end
   testing-ldflags: -lcrypto -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc */
#include "testing_proc.h"

#include <openssl/hmac.h>
#include <spawn.h>
#include <sys/stat.h>

/* ThreadSanitizer would otherwise end a child of a threaded process that starts a thread. */
const char *__tsan_default_options(void);
const char *__tsan_default_options(void) {
    return "die_after_fork=0:report_thread_leaks=0";
}

/* Longer than any test takes: what ends such a wait is not the time. */
#define LONG MTASK_SEC(100000)

#define SHORT MTASK_US(500)

#define COUNT_OF(array) (sizeof(array) / sizeof(array)[0])

/* A text without its closing zero, and its size. */
#define TEXT(text) text, sizeof(text) - 1

enum {
    SMALL = 16384, /* the longest message that is sent at once or not at all */
    MIDDLE = 40000,
    BIG = TESTING_TSAN ? 500000 : 1 << 20, /* more than fits into a local socket */
    HUGE_SIZE = TESTING_TSAN ? 1 << 20 : 5 << 20,
};

/* What messages are made of: message `i` of a test begins at its byte i. */
static unsigned char pattern[HUGE_SIZE + 4096];

/* ---- memory: the largest piece that anybody asked for, and pieces that are not to be had ---- */

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *memory, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *memory, size_t size);

static size_t largest;
static long fail_in; /* so many calls from now one fails; 0: none */

static bool fails(void) {
    return __atomic_load_n(&fail_in, __ATOMIC_SEQ_CST) > 0 &&
           __atomic_sub_fetch(&fail_in, 1, __ATOMIC_SEQ_CST) == 0;
}

static void note_size(size_t size) {
    size_t most = __atomic_load_n(&largest, __ATOMIC_SEQ_CST);
    while (size > most && !__atomic_compare_exchange_n(&largest, &most, size, false,
                                                       __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {
    }
}

void *__wrap_malloc(size_t size) {
    note_size(size);
    return fails() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size) {
    note_size(count * size);
    return fails() ? NULL : __real_calloc(count, size);
}

void *__wrap_realloc(void *memory, size_t size) {
    note_size(size);
    return fails() ? NULL : __real_realloc(memory, size);
}

/* ---- kinds of connections ---- */

/* Two ends: `b` sends to `a`, and if it is duplex the other way round, too. */
typedef struct ends {
    mtask_conn *a;
    mtask_conn *b;
} ends;

typedef struct kind {
    const char *name;
    ends (*open)(void);
    bool duplex;
    bool local; /* descriptors can be sent */
    bool pipe;  /* of mtask_pipe */
} kind;

static mtask_conn *open_one(int fd) {
    mtask_conn *made = NULL;
    ck_assert_status(mtask_conn_open(&made, fd), MTASK_OK);
    testing_check(made != NULL);
    ck_assert_int_eq(mtask_conn_fd(made), fd);
    return made;
}

static ends open_fds(const int fds[2]) {
    ends made = {open_one(fds[0]), open_one(fds[1])};
    return made;
}

static ends open_pipe_of(bool duplex) {
    ends made = {NULL, NULL};
    ck_assert_status(mtask_pipe(&made.a, &made.b, duplex), MTASK_OK);
    testing_check(made.a != NULL && made.b != NULL);
    return made;
}

static ends open_duplex(void) {
    return open_pipe_of(true);
}

static ends open_one_way(void) {
    return open_pipe_of(false);
}

static ends open_local(void) {
    int fds[2];
    plain_pair(fds);
    return open_fds(fds);
}

static ends open_remote(void) {
    int fds[2];
    plain_tcp(fds);
    return open_fds(fds);
}

static const kind kinds[] = {
    {"duplex pipe", open_duplex, true, true, true},
    {"one-way pipe", open_one_way, false, true, true},
    {"unix socket", open_local, true, true, false},
    {"tcp", open_remote, true, false, false},
};

static void end_conn(mtask_conn **conn) {
    ck_assert_status(mtask_conn_close(*conn), MTASK_OK);
    *conn = NULL;
}

static void end_both(ends *of) {
    end_conn(&of->a);
    end_conn(&of->b);
}

/* A test of which all is said of each kind of connection, in a plain thread and in a task. */
#define EACH_KIND(name)                                                                            \
 static void name##_of(const kind *of);                                                            \
 static void *name##_flow(void *arg) {                                                             \
  name##_of((const kind *)arg);                                                                    \
  return arg;                                                                                      \
 }                                                                                                 \
 START_TEST(name) {                                                                                \
  each_kind(name##_flow);                                                                          \
 }                                                                                                 \
 END_TEST                                                                                          \
 static void name##_of(const kind *of)

static void each_kind(mtask_fn fn) {
    for (size_t i = 0; i < COUNT_OF(kinds); i++)
        everywhere(fn, (void *)&kinds[i]);
}

/* Does it for two flows, wherever they can run. */
static void each_kind_and_place(void (*run)(const kind *of, place where)) {
    for (size_t i = 0; i < COUNT_OF(kinds); i++)
        for (int where = 0; where < PLACES; where++)
            run(&kinds[i], (place)where);
}

/* ---- messages ---- */

static void send_bytes(mtask_conn *out, const void *data, size_t size) {
    ck_assert_status(mtask_conn_send(out, data, size, LONG), MTASK_OK);
}

static void send_text(mtask_conn *out, const char *text) {
    send_bytes(out, text, strlen(text));
}

static void check_bytes(const void *got, size_t got_size, const void *data, size_t size) {
    ck_assert_uint_eq(got_size, size);
    testing_check(size == 0 || memcmp(got, data, size) == 0);
}

static void check_message(const mtask_buf *message, const void *data, size_t size) {
    check_bytes(message->data, message->size, data, size);
    testing_check(message->data == NULL || message->data[size] == '\0');
}

/* Receives a message, which has to be this. */
static void check_recv(mtask_conn *in, const void *data, size_t size) {
    mtask_buf message = {NULL, 0, 0};
    ck_assert_status(mtask_conn_recv(in, &message, LONG), MTASK_OK);
    check_message(&message, data, size);
    mtask_buf_free(&message);
}

static void check_text(mtask_conn *in, const char *text) {
    check_recv(in, text, strlen(text));
}

static mtask_status try_recv(mtask_conn *in, int64_t timeout) {
    mtask_buf message = {NULL, 0, 0};
    mtask_status status = mtask_conn_recv(in, &message, timeout);
    mtask_buf_free(&message);
    return status;
}

static mtask_status try_recv_into(mtask_conn *in, int64_t timeout) {
    char buffer[64];
    size_t size = 0;
    return mtask_conn_recv_into(in, buffer, sizeof buffer, &size, timeout);
}

static mtask_status try_recv_fds(mtask_conn *in, int64_t timeout) {
    mtask_buf message = {NULL, 0, 0};
    int fds[2];
    size_t count = 77;
    mtask_status status = mtask_conn_recv_fds(in, &message, fds, 2, &count, timeout);
    testing_check(status == MTASK_OK ? count <= 2 : count == 0);
    for (size_t i = 0; i < count; i++)
        close(fds[i]);
    mtask_buf_free(&message);
    return status;
}

/* Fails the test unless all ways to receive answer this. */
static void check_no_recv(mtask_conn *in, int64_t timeout, mtask_status expected) {
    ck_assert_status(try_recv(in, timeout), expected);
    ck_assert_status(try_recv_into(in, timeout), expected);
    ck_assert_status(try_recv_fds(in, timeout), expected);
}

static void check_end(mtask_conn *in) {
    ck_assert_status(mtask_conn_poll(in, LONG), MTASK_OK);
    check_no_recv(in, LONG, MTASK_CLOSED);
    check_no_recv(in, MTASK_NOWAIT, MTASK_CLOSED);
}

static void check_too_small(mtask_conn *in, size_t capacity, size_t expected) {
    static char room[1024];
    size_t size = 0;
    testing_check(capacity <= sizeof room);
    ck_assert_status(mtask_conn_recv_into(in, room, capacity, &size, LONG), MTASK_OVERFLOW);
    ck_assert_uint_eq(size, expected);
}

/* ---- bounds of messages ---- */

static const size_t sizes[] = {0,     1,     2,     3,     4,      5,      8,     63,    4095,
                               4096,  8192,  16379, 16380, 16381,  16383,  16384, 16385, 0,
                               16388, 16392, 20000, 32767, 32768,  32769,  65535, 65536, 1,
                               65537, 0,     9999,  7,     131072, 200001, 3};

static void *send_sizes(void *arg) {
    mtask_conn *out = (mtask_conn *)arg;
    for (size_t i = 0; i < COUNT_OF(sizes); i++)
        send_bytes(out, pattern + i, sizes[i]);
    return arg;
}

static void *recv_sizes(void *arg) {
    mtask_conn *in = (mtask_conn *)arg;
    mtask_buf message = {NULL, 0, 0};
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        ck_assert_status(mtask_conn_recv(in, &message, LONG), MTASK_OK);
        check_message(&message, pattern + i, sizes[i]);
    }
    mtask_buf_free(&message);
    return arg;
}

static void play_sizes(const kind *of, place where) {
    ends two = of->open();
    run_both(send_sizes, two.b, recv_sizes, two.a, where);
    if (of->duplex)
        run_both(recv_sizes, two.b, send_sizes, two.a, where);
    check_no_recv(two.a, MTASK_NOWAIT, MTASK_TIMEOUT);
    end_both(&two);
}

START_TEST(messages_of_any_size_keep_their_bounds) {
    each_kind_and_place(play_sizes);
}
END_TEST

static void *send_huge(void *arg) {
    send_bytes((mtask_conn *)arg, pattern, HUGE_SIZE);
    return arg;
}

static void *recv_huge(void *arg) {
    check_recv((mtask_conn *)arg, pattern, HUGE_SIZE);
    return arg;
}

EACH_KIND(messages_may_be_huge) {
    ends two = of->open();
    run_both(send_huge, two.b, recv_huge, two.a, IN_THREADS);
    end_both(&two);
}

static void *recv_sizes_into(void *arg) {
    mtask_conn *in = (mtask_conn *)arg;
    char *room = (char *)malloc(BIG);
    testing_check(room != NULL);
    for (size_t i = 0, size = 99; i < COUNT_OF(sizes); i++, size = 99) {
        ck_assert_status(mtask_conn_recv_into(in, room, sizes[i], &size, LONG), MTASK_OK);
        check_bytes(room, size, pattern + i, sizes[i]);
    }
    free(room);
    return arg;
}

static void play_sizes_into(const kind *of, place where) {
    ends two = of->open();
    run_both(send_sizes, two.b, recv_sizes_into, two.a, where);
    end_both(&two);
}

START_TEST(messages_are_received_into_memory_that_just_holds_them) {
    each_kind_and_place(play_sizes_into);
}
END_TEST

EACH_KIND(messages_that_wait_are_received_in_order) {
    enum { MANY = 50 };
    ends two = of->open();
    for (size_t i = 0; i < MANY; i++)
        send_bytes(two.b, pattern + i, i);
    for (size_t i = 0; i < MANY; i++)
        check_recv(two.a, pattern + i, i);
    check_no_recv(two.a, MTASK_NOWAIT, MTASK_TIMEOUT);
    end_both(&two);
}

/* Both ends send and receive at the same time, each in two flows. */
static void *trade(void *arg) {
    ends *two = (ends *)arg;
    run_both(send_sizes, two->a, recv_sizes, two->a, IN_LOOPS);
    return arg;
}

static void *trade_back(void *arg) {
    ends *two = (ends *)arg;
    run_both(send_sizes, two->b, recv_sizes, two->b, IN_THREADS);
    return arg;
}

START_TEST(both_ends_send_at_once) {
    for (size_t i = 0; i < COUNT_OF(kinds); i++) {
        ends two;
        if (!kinds[i].duplex)
            continue;
        two = kinds[i].open();
        run_both(trade, &two, trade_back, &two, IN_THREADS);
        end_both(&two);
    }
}
END_TEST

/* ---- memory that is too small ---- */

static void *send_sizes_over(void *arg) {
    mtask_conn *out = (mtask_conn *)arg;
    static const size_t some[] = {1, 100, SMALL, SMALL + 1, MIDDLE, 300000};
    for (size_t i = 0; i < COUNT_OF(some); i++)
        send_bytes(out, pattern + i, some[i]);
    return arg;
}

/* Whether somebody who waits is told of a message that was looked at already. */
static void check_ready(mtask_conn *in) {
    mtask_conn_case one = {in, -1, false};
    ck_assert_status(mtask_conn_poll(in, MTASK_NOWAIT), MTASK_OK);
    ck_assert_status(mtask_conn_wait(&one, 1, MTASK_NOWAIT), MTASK_OK);
    testing_check(one.ready);
}

static void *recv_sizes_over(void *arg) {
    mtask_conn *in = (mtask_conn *)arg;
    static const size_t some[] = {1, 100, SMALL, SMALL + 1, MIDDLE, 300000};
    for (size_t i = 0; i < COUNT_OF(some); i++) {
        check_too_small(in, 0, some[i]);
        check_ready(in);
        check_too_small(in, some[i] < 1000 ? some[i] - 1 : 1000, some[i]);
        check_recv(in, pattern + i, some[i]);
    }
    return arg;
}

static void play_over(const kind *of, place where) {
    ends two = of->open();
    run_both(send_sizes_over, two.b, recv_sizes_over, two.a, where);
    check_no_recv(two.a, MTASK_NOWAIT, MTASK_TIMEOUT);
    end_both(&two);
}

START_TEST(a_message_that_does_not_fit_can_still_be_received) {
    each_kind_and_place(play_over);
}
END_TEST

EACH_KIND(a_message_that_did_not_fit_outlives_its_sender) {
    ends two = of->open();
    send_bytes(two.b, pattern, 300);
    send_bytes(two.b, NULL, 0);
    send_text(two.b, "last");
    end_conn(&two.b);
    check_too_small(two.a, 299, 300);
    check_ready(two.a);
    check_recv(two.a, pattern, 300);
    check_recv(two.a, NULL, 0);
    check_too_small(two.a, 3, 4);
    check_text(two.a, "last");
    check_end(two.a);
    end_conn(&two.a);
}

/* ---- time-outs ---- */

EACH_KIND(receiving_waits_as_long_as_it_is_told) {
    ends two = of->open();
    int64_t before = mtask_now();
    check_no_recv(two.a, MTASK_NOWAIT, MTASK_TIMEOUT);
    check_no_recv(two.a, SHORT, MTASK_TIMEOUT);
    ck_assert_status(mtask_conn_poll(two.a, SHORT), MTASK_TIMEOUT);
    ck_assert_int_ge(mtask_now() - before, 4 * SHORT);
    check_no_recv(two.a, -1, MTASK_INVALID);
    ck_assert_status(mtask_conn_poll(two.a, -1), MTASK_INVALID);
    ck_assert_status(mtask_conn_send(two.b, "x", 1, -1), MTASK_INVALID);
    send_text(two.b, "word");
    ck_assert_status(mtask_conn_poll(two.a, LONG), MTASK_OK);
    ck_assert_status(mtask_conn_poll(two.a, MTASK_NOWAIT), MTASK_OK);
    check_text(two.a, "word");
    ck_assert_status(mtask_conn_poll(two.a, MTASK_NOWAIT), MTASK_TIMEOUT);
    end_both(&two);
}

static void *send_big(void *arg) {
    mtask_conn *out = (mtask_conn *)arg;
    send_bytes(out, pattern, BIG);
    send_text(out, "end");
    return arg;
}

/* Tries to receive a big message: into `room`, which is large enough, or into memory that is too
   small, or as it is; *size becomes its size once it is in `room`. */
static mtask_status try_big(mtask_conn *in, size_t way, mtask_buf *message, char *room,
                            size_t *size) {
    int64_t timeout = way % 3 == 0 ? MTASK_NOWAIT : MTASK_US(20);
    mtask_status status;
    if (way % 4 == 0) {
        status = try_recv_into(in, timeout);
        testing_check(status == MTASK_OVERFLOW || status == MTASK_TIMEOUT);
        return MTASK_TIMEOUT;
    }
    if (way % 4 == 2)
        return mtask_conn_recv_into(in, room, BIG, size, timeout);
    return mtask_conn_recv(in, message, timeout);
}

/* In many attempts of all kinds, which end too early. */
static void *recv_big_by_bits(void *arg) {
    mtask_conn *in = (mtask_conn *)arg;
    mtask_buf message = {NULL, 0, 0};
    mtask_status status = MTASK_TIMEOUT;
    char *room = (char *)malloc(BIG);
    size_t size = 0;
    testing_check(room != NULL);
    for (size_t misses = 0; status != MTASK_OK; misses++) {
        status = try_big(in, misses, &message, room, &size);
        testing_check(status == MTASK_TIMEOUT || status == MTASK_OK);
        if (status == MTASK_TIMEOUT)
            linger();
    }
    if (size > 0)
        check_bytes(room, size, pattern, BIG);
    else
        check_message(&message, pattern, BIG);
    free(room);
    mtask_buf_free(&message);
    check_text(in, "end");
    return arg;
}

static void play_bits(const kind *of, place where) {
    ends two = of->open();
    run_both(send_big, two.b, recv_big_by_bits, two.a, where);
    end_both(&two);
}

START_TEST(a_time_out_in_the_midst_of_a_message_loses_nothing) {
    each_kind_and_place(play_bits);
}
END_TEST

/* Sends messages of `size` bytes until there is no room; how many. */
static size_t fill_up(mtask_conn *out, size_t size) {
    mtask_status status;
    size_t sent = 0;
    while ((status = mtask_conn_send(out, pattern + sent % 64, size, MTASK_NOWAIT)) == MTASK_OK)
        sent++;
    ck_assert_status(status, MTASK_TIMEOUT);
    return sent;
}

static void check_sent(mtask_conn *in, size_t sent, size_t size) {
    for (size_t i = 0; i < sent; i++)
        check_recv(in, pattern + i % 64, size);
}

/* What is in no buffer of the system's any more is not lost either, on its way through TCP. */
static void check_nothing_more(mtask_conn *in) {
    ck_assert_status(try_recv(in, SHORT), MTASK_TIMEOUT);
}

EACH_KIND(a_small_message_is_sent_at_once_or_not_at_all) {
    static const size_t some[] = {0, 1000, SMALL - 1, SMALL};
    for (size_t i = 0; of->pipe && i < COUNT_OF(some); i++) {
        ends two = of->open();
        for (int round = 0; round < 2; round++) {
            size_t sent = fill_up(two.b, some[i]);
            int64_t before = mtask_now();
            testing_check(sent > 0);
            ck_assert_status(mtask_conn_send(two.b, pattern, some[i], SHORT), MTASK_TIMEOUT);
            ck_assert_int_ge(mtask_now() - before, SHORT);
            check_sent(two.a, sent, some[i]);
            check_nothing_more(two.a);
            send_text(two.b, "there is room again");
            check_text(two.a, "there is room again");
        }
        end_both(&two);
    }
}

/* A stream may take a part of any message; then it is of no use for sending, but what was sent is
   received. */
EACH_KIND(a_message_cut_short_tears_no_other_one) {
    static const size_t some[] = {6000, SMALL, MIDDLE};
    for (size_t i = 0; i < COUNT_OF(some); i++) {
        ends two = of->open();
        size_t sent = fill_up(two.b, some[i]);
        mtask_status status = mtask_conn_send(two.b, pattern, some[i], SHORT);
        testing_check(status == MTASK_TIMEOUT || status == MTASK_BROKEN);
        check_sent(two.a, sent, some[i]);
        status = mtask_conn_send(two.b, "more", 4, LONG);
        testing_check(status == MTASK_OK || status == MTASK_BROKEN);
        if (status == MTASK_OK)
            check_text(two.a, "more");
        end_conn(&two.b);
        check_end(two.a);
        end_conn(&two.a);
    }
}

EACH_KIND(a_big_message_cut_short_ends_the_sending) {
    ends two = of->open();
    mtask_status status;
    send_text(two.b, "first");
    do
        status = mtask_conn_send(two.b, pattern, BIG, SHORT);
    while (status == MTASK_OK); /* TCP may have much room */
    ck_assert_status(status, MTASK_TIMEOUT);
    ck_assert_status(mtask_conn_send(two.b, pattern, BIG, LONG), MTASK_BROKEN);
    ck_assert_status(mtask_conn_send(two.b, "x", 1, LONG), MTASK_BROKEN);
    ck_assert_status(mtask_conn_send(two.b, NULL, 0, MTASK_NOWAIT), MTASK_BROKEN);
    check_text(two.a, "first");
    if (of->duplex) { /* the other way goes on */
        send_text(two.a, "back");
        check_text(two.b, "back");
    }
    end_conn(&two.b);
    while ((status = try_recv(two.a, LONG)) == MTASK_OK)
        continue;
    ck_assert_status(status, MTASK_CLOSED);
    check_end(two.a);
    end_conn(&two.a);
}

/* ---- ends ---- */

EACH_KIND(what_was_sent_comes_before_the_end) {
    ends two = of->open();
    send_text(two.b, "one");
    send_bytes(two.b, NULL, 0);
    send_bytes(two.b, pattern, MIDDLE);
    end_conn(&two.b);
    check_text(two.a, "one");
    check_recv(two.a, NULL, 0);
    check_recv(two.a, pattern, MIDDLE);
    check_end(two.a);
    end_conn(&two.a);
}

static void *wait_for_end(void *arg) {
    ck_assert_status(try_recv((mtask_conn *)arg, LONG), MTASK_CLOSED);
    return arg;
}

/* One flow waits, the other ends that. */
typedef struct pairing {
    flow both[2];
    ends two;
} pairing;

static void *close_when_it_waits(void *arg) {
    pairing *self = (pairing *)arg;
    await_flow(&self->both[0]);
    end_conn(&self->two.b);
    return arg;
}

static void play_end(const kind *of, place where) {
    pairing self;
    memset(&self, 0, sizeof self);
    self.two = of->open();
    self.both[0].fn = wait_for_end;
    self.both[0].arg = self.two.a;
    self.both[1].fn = close_when_it_waits;
    self.both[1].arg = &self;
    run_flows(self.both, where);
    end_conn(&self.two.a);
}

START_TEST(the_end_wakes_who_waits_for_a_message) {
    each_kind_and_place(play_end);
}
END_TEST

EACH_KIND(an_end_that_closes_with_messages_unread_loses_none_of_its_own) {
    ends two = of->open();
    if (of->duplex) {
        send_text(two.a, "never read");
        send_text(two.b, "one");
        send_bytes(two.b, pattern, MIDDLE);
        ck_assert_status(mtask_conn_poll(two.b, LONG), MTASK_OK);
        ck_assert_status(mtask_conn_poll(two.a, LONG), MTASK_OK);
        end_conn(&two.b);
        check_text(two.a, "one");
        check_recv(two.a, pattern, MIDDLE);
        if (of->local)
            check_end(two.a);
        else
            testing_check(try_recv(two.a, LONG) != MTASK_OK); /* TCP tells of a reset */
        end_conn(&two.a);
        return;
    }
    end_both(&two);
}

EACH_KIND(who_sends_to_nobody_can_still_receive) {
    ends two = of->open();
    if (of->duplex && of->local) {
        send_text(two.a, "never read");
        send_text(two.b, "one");
        send_text(two.b, "two");
        end_conn(&two.b);
        ck_assert_status(mtask_conn_send(two.a, "x", 1, LONG), MTASK_BROKEN);
        ck_assert_status(mtask_conn_send(two.a, "x", 1, LONG), MTASK_BROKEN);
        check_text(two.a, "one");
        check_text(two.a, "two");
        check_end(two.a);
        end_conn(&two.a);
        return;
    }
    end_both(&two);
}

EACH_KIND(sending_to_nobody_is_broken) {
    ends two = of->open();
    mtask_status status = MTASK_OK;
    signal(SIGPIPE, SIG_DFL); /* it would end the test */
    end_conn(&two.a);
    if (of->local) {
        int fd = mtask_conn_fd(two.b);
        ck_assert_status(mtask_conn_send(two.b, "x", 1, LONG), MTASK_BROKEN);
        ck_assert_status(mtask_conn_send_fds(two.b, "x", 1, &fd, 1, LONG), MTASK_BROKEN);
    }
    while (status == MTASK_OK) /* TCP hears of it later */
        status = mtask_conn_send(two.b, "x", 1, LONG);
    ck_assert_status(status, MTASK_BROKEN);
    ck_assert_status(mtask_conn_send(two.b, "x", 1, LONG), MTASK_BROKEN);
    ck_assert_status(mtask_conn_send(two.b, NULL, 0, LONG), MTASK_BROKEN);
    ck_assert_status(mtask_conn_send(two.b, pattern, BIG, LONG), MTASK_BROKEN);
    end_conn(&two.b);
}

static void *send_until_broken(void *arg) {
    mtask_conn *out = (mtask_conn *)arg;
    mtask_status status;
    while ((status = mtask_conn_send(out, pattern, SMALL, LONG)) == MTASK_OK)
        continue;
    ck_assert_status(status, MTASK_BROKEN);
    return arg;
}

static void *send_big_until_broken(void *arg) {
    mtask_status status;
    while ((status = mtask_conn_send((mtask_conn *)arg, pattern, BIG, LONG)) == MTASK_OK)
        continue;
    ck_assert_status(status, MTASK_BROKEN);
    return arg;
}

static void *close_reader_when_it_waits(void *arg) {
    pairing *self = (pairing *)arg;
    await_flow(&self->both[0]);
    end_conn(&self->two.a);
    return arg;
}

static void play_broken(const kind *of, place where) {
    for (int big = 0; big < 2; big++) {
        pairing self;
        memset(&self, 0, sizeof self);
        self.two = of->open();
        self.both[0].fn = big ? send_big_until_broken : send_until_broken;
        self.both[0].arg = self.two.b;
        self.both[1].fn = close_reader_when_it_waits;
        self.both[1].arg = &self;
        run_flows(self.both, where);
        end_conn(&self.two.b);
    }
}

START_TEST(who_waits_for_room_is_told_that_nobody_reads) {
    signal(SIGPIPE, SIG_DFL);
    each_kind_and_place(play_broken);
}
END_TEST

EACH_KIND(a_one_way_end_refuses_the_other_way) {
    ends two = of->open();
    if (!of->duplex) {
        int fd = mtask_conn_fd(two.a);
        ck_assert_status(mtask_conn_send(two.a, "x", 1, LONG), MTASK_INVALID);
        ck_assert_status(mtask_conn_send(two.a, pattern, MIDDLE, LONG), MTASK_INVALID);
        ck_assert_status(mtask_conn_send_fds(two.a, "x", 1, &fd, 1, LONG), MTASK_INVALID);
        check_no_recv(two.b, LONG, MTASK_INVALID);
        send_text(two.b, "this way");
        check_text(two.a, "this way");
    }
    end_both(&two);
}

EACH_KIND(ends_are_close_on_exec) {
    ends two = of->open();
    testing_check((fcntl(mtask_conn_fd(two.a), F_GETFD) & FD_CLOEXEC) != 0);
    testing_check((fcntl(mtask_conn_fd(two.b), F_GETFD) & FD_CLOEXEC) != 0);
    end_both(&two);
}

START_TEST(nothing_is_an_end_of_nothing) {
    mtask_conn *made = NULL;
    int fds[2], file = open_file(3), closed = dup(file);
    ck_assert_int_eq(mtask_conn_fd(NULL), -1);
    ck_assert_status(mtask_conn_close(NULL), MTASK_OK);
    plain_pipe(fds);
    close(closed);
    ck_assert_status(mtask_conn_open(&made, fds[0]), MTASK_INVALID);
    ck_assert_status(mtask_conn_open(&made, file), MTASK_INVALID);
    testing_check(mtask_conn_open(&made, closed) != MTASK_OK);
    testing_check(mtask_conn_open(&made, -1) != MTASK_OK);
    ck_assert_ptr_null(made);
    feed(fds[1], "still ours");
    check_fed(fds[0], "still ours");
    end_plain(fds);
    close(file);
}
END_TEST

/* ---- bytes on a stream ---- */

/* A connection at whose other end a test writes what it likes. */
typedef struct wire {
    mtask_conn *conn;
    int fd; /* -1: closed */
} wire;

static wire open_wire(void) {
    int fds[2];
    wire made;
    plain_pair(fds);
    made.conn = open_one(fds[0]);
    made.fd = fds[1];
    return made;
}

static void hang_up(wire *of) {
    testing_check(close(of->fd) == 0);
    of->fd = -1;
}

static void end_wire(wire *of) {
    end_conn(&of->conn);
    if (of->fd >= 0)
        hang_up(of);
}

static void feed_bytes(int fd, const void *data, size_t size) {
    testing_check(size == 0 || write(fd, data, size) == (ssize_t)size);
}

/* The same message in both of Python's forms. */
static const struct {
    const char *bytes;
    size_t size;
} forms[] = {{TEXT("\0\0\0\5hello")}, {TEXT("\377\377\377\377\0\0\0\0\0\0\0\5hello")}};

START_TEST(messages_are_framed_as_python_does) {
    ends two = open_local();
    char got[64];
    int fd = mtask_conn_fd(two.a);
    send_text(two.b, "hello");
    ck_assert_int_eq(recv(fd, got, sizeof got, 0), (long)forms[0].size);
    testing_check(memcmp(got, forms[0].bytes, forms[0].size) == 0);
    send_bytes(two.b, NULL, 0);
    ck_assert_int_eq(recv(fd, got, sizeof got, 0), 4);
    testing_check(memcmp(got, "\0\0\0\0", 4) == 0);
    send_bytes(two.b, pattern, 0x8123);
    ck_assert_int_eq(recv(fd, got, 4, 0), 4);
    testing_check(memcmp(got, "\0\0\x81\x23", 4) == 0);
    end_both(&two);
}
END_TEST

START_TEST(a_message_may_come_byte_by_byte) {
    for (size_t form = 0; form < COUNT_OF(forms); form++)
        for (size_t piece = 1; piece <= forms[form].size; piece++) {
            wire of = open_wire();
            size_t size = forms[form].size, step;
            for (size_t fed = 0; fed < size; fed += step) {
                check_no_recv(of.conn, MTASK_NOWAIT, MTASK_TIMEOUT);
                step = size - fed < piece ? size - fed : piece;
                feed_bytes(of.fd, forms[form].bytes + fed, step);
            }
            check_text(of.conn, "hello");
            check_no_recv(of.conn, MTASK_NOWAIT, MTASK_TIMEOUT);
            end_wire(&of);
        }
}
END_TEST

START_TEST(an_end_in_the_midst_of_a_message_is_an_end) {
    for (size_t form = 0; form < COUNT_OF(forms); form++)
        for (size_t size = 0; size < forms[form].size; size++) {
            wire of = open_wire();
            feed_bytes(of.fd, "\0\0\0\0", 4);
            feed_bytes(of.fd, forms[form].bytes, size);
            hang_up(&of);
            check_recv(of.conn, NULL, 0);
            check_end(of.conn);
            end_wire(&of);
        }
}
END_TEST

START_TEST(what_is_no_message_breaks_the_connection) {
    static const char *const heads[] = {"\377\377\377\376", "\200\0\0\0", "\300abc"};
    for (size_t i = 0; i < COUNT_OF(heads); i++) {
        wire of = open_wire();
        feed_bytes(of.fd, heads[i], 4);
        feed_bytes(of.fd, TEXT("and something else"));
        check_no_recv(of.conn, LONG, MTASK_BROKEN);
        end_wire(&of);
    }
}
END_TEST

/* Lengths that no memory holds are no reason to ask for it. */
START_TEST(memory_is_taken_as_the_bytes_arrive) {
    static const char *const heads[] = {"\177\377\377\377", "\377\377\377\377\0\0\0\x7f\0\0\0\0",
                                        "\377\377\377\377\177\377\377\377\377\377\377\377",
                                        "\377\377\377\377\377\377\377\377\377\377\377\377"};
    for (size_t i = 0; i < COUNT_OF(heads); i++) {
        wire of = open_wire();
        mtask_status status;
        feed_bytes(of.fd, heads[i], i == 0 ? 4 : 12);
        feed_bytes(of.fd, TEXT("a beginning"));
        status = try_recv(of.conn, MTASK_NOWAIT);
        testing_check(status == MTASK_TIMEOUT || status == MTASK_OVERFLOW ||
                      status == MTASK_BROKEN);
        ck_assert_uint_le(__atomic_load_n(&largest, __ATOMIC_SEQ_CST), 8 << 20);
        hang_up(&of);
        testing_check(try_recv(of.conn, LONG) == (i == 0 ? MTASK_CLOSED : MTASK_BROKEN) ||
                      status == MTASK_TIMEOUT);
        end_wire(&of);
    }
}
END_TEST

/* ---- the limit ---- */

static void *send_over_limit(void *arg) {
    mtask_conn *out = (mtask_conn *)arg;
    (void)mtask_conn_send(out, pattern, BIG, LONG);
    return arg;
}

static void *recv_over_limit(void *arg) {
    mtask_conn *in = (mtask_conn *)arg;
    ck_assert_status(try_recv(in, LONG), MTASK_OVERFLOW);
    check_no_recv(in, LONG, MTASK_BROKEN);
    ck_assert_status(mtask_conn_close(in), MTASK_OK);
    return arg;
}

static void play_limit(const kind *of, place where) {
    ends two = of->open();
    mtask_conn_set_limit(two.a, BIG - 1);
    run_both(send_over_limit, two.b, recv_over_limit, two.a, where);
    end_conn(&two.b);
}

START_TEST(a_big_message_beyond_the_limit_is_not_received) {
    each_kind_and_place(play_limit);
}
END_TEST

EACH_KIND(a_message_beyond_the_limit_breaks_the_connection) {
    for (int way = 0; way < 3; way++) {
        ends two = of->open();
        mtask_conn_set_limit(two.a, 60);
        send_bytes(two.b, pattern, 60);
        send_bytes(two.b, pattern, 61);
        send_text(two.b, "too late");
        check_too_small(two.a, 59, 60);
        check_recv(two.a, pattern, 60);
        ck_assert_status(way == 0   ? try_recv(two.a, LONG)
                         : way == 1 ? try_recv_into(two.a, LONG)
                                    : try_recv_fds(two.a, LONG),
                         MTASK_OVERFLOW);
        check_no_recv(two.a, LONG, MTASK_BROKEN);
        end_both(&two);
    }
}

EACH_KIND(a_limit_can_be_lifted) {
    ends two = of->open();
    mtask_conn_set_limit(two.a, 1);
    mtask_conn_set_limit(two.a, 0);
    send_bytes(two.b, pattern, MIDDLE);
    check_recv(two.a, pattern, MIDDLE);
    end_both(&two);
}

/* ---- descriptors that go along ---- */

enum { MOST_FDS = 16 };

/* Files that can be told from each other. */
typedef struct files {
    int fds[MOST_FDS + 1];
    ino_t numbers[MOST_FDS + 1];
} files;

static files open_files(void) {
    files made;
    for (size_t i = 0; i <= MOST_FDS; i++) {
        struct stat info;
        made.fds[i] = open_file(0);
        testing_check(fstat(made.fds[i], &info) == 0);
        made.numbers[i] = info.st_ino;
    }
    return made;
}

static void end_files(const files *of) {
    for (size_t i = 0; i <= MOST_FDS; i++)
        close(of->fds[i]);
}

/* Fails the test unless these are copies of the first `count` files; closes them. */
static void check_fds(const files *of, const int *fds, size_t count) {
    for (size_t i = 0; i < count; i++) {
        struct stat info;
        testing_check(fstat(fds[i], &info) == 0 && info.st_ino == of->numbers[i]);
        testing_check((fcntl(fds[i], F_GETFD) & FD_CLOEXEC) != 0);
        close(fds[i]);
    }
}

static void send_files(mtask_conn *out, const files *of, size_t size, size_t count) {
    ck_assert_status(mtask_conn_send_fds(out, pattern, size, of->fds, count, LONG), MTASK_OK);
}

/* Receives a message with at most `capacity` descriptors, of which it gets `count`. */
static void check_files(mtask_conn *in, const files *of, size_t size, size_t capacity,
                        size_t count) {
    mtask_buf message = {NULL, 0, 0};
    int fds[MOST_FDS + 1];
    size_t got = 99;
    ck_assert_status(mtask_conn_recv_fds(in, &message, fds, capacity, &got, LONG), MTASK_OK);
    check_message(&message, pattern, size);
    ck_assert_uint_eq(got, count);
    check_fds(of, fds, got);
    mtask_buf_free(&message);
}

EACH_KIND(descriptors_go_along_with_a_message) {
    static const size_t some[] = {0, 1, 100, SMALL - 1, SMALL, SMALL + 1, MIDDLE};
    static const size_t counts[] = {0, 1, 2, MOST_FDS};
    files all = open_files();
    ends two = of->open();
    int before;
    if (of->local) {
        wait_once();
        before = count_fds();
        for (size_t i = 0; i < COUNT_OF(some); i++)
            for (size_t n = 0; n < COUNT_OF(counts); n++) {
                send_files(two.b, &all, some[i], counts[n]);
                check_files(two.a, &all, some[i], MOST_FDS, counts[n]);
            }
        ck_assert_int_eq(count_fds(), before);
    }
    end_both(&two);
    end_files(&all);
}

EACH_KIND(each_message_has_its_own_descriptors) {
    files all = open_files();
    ends two = of->open();
    if (of->local) {
        send_files(two.b, &all, 10, 3);
        send_bytes(two.b, pattern, 11);
        send_files(two.b, &all, 12, 1);
        send_files(two.b, &all, 0, 2);
        send_bytes(two.b, pattern, MIDDLE);
        send_files(two.b, &all, 13, 0);
        check_files(two.a, &all, 10, MOST_FDS, 3);
        check_files(two.a, &all, 11, MOST_FDS, 0);
        check_files(two.a, &all, 12, MOST_FDS, 1);
        check_files(two.a, &all, 0, MOST_FDS, 2);
        check_files(two.a, &all, MIDDLE, MOST_FDS, 0);
        check_files(two.a, &all, 13, MOST_FDS, 0);
    }
    end_both(&two);
    end_files(&all);
}

EACH_KIND(descriptors_that_nobody_takes_are_closed) {
    files all = open_files();
    ends two = of->open();
    char room[64];
    size_t size;
    int before;
    if (of->local) {
        wait_once();
        before = count_fds();
        send_files(two.b, &all, 10, MOST_FDS);
        check_files(two.a, &all, 10, 3, 3);
        send_files(two.b, &all, 10, MOST_FDS);
        check_files(two.a, &all, 10, 0, 0);
        send_files(two.b, &all, 10, MOST_FDS);
        check_recv(two.a, pattern, 10);
        send_files(two.b, &all, MIDDLE, 5);
        check_recv(two.a, pattern, MIDDLE);
        send_files(two.b, &all, 10, 4);
        ck_assert_status(mtask_conn_recv_into(two.a, room, sizeof room, &size, LONG), MTASK_OK);
        ck_assert_int_eq(count_fds(), before);
        send_files(two.b, &all, 10, 7);
        send_files(two.b, &all, MIDDLE, 7);
        end_conn(&two.b);
        check_too_small(two.a, 1, 10);
        end_conn(&two.a);
        ck_assert_int_eq(count_fds(), before - 2);
        end_files(&all);
        return;
    }
    end_both(&two);
    end_files(&all);
}

EACH_KIND(descriptors_wait_with_a_message_that_did_not_fit) {
    static const size_t some[] = {10, MIDDLE};
    files all = open_files();
    ends two = of->open();
    for (size_t i = 0; of->local && i < COUNT_OF(some); i++) {
        send_files(two.b, &all, some[i], 2);
        check_too_small(two.a, 9, some[i]);
        check_too_small(two.a, 0, some[i]);
        check_files(two.a, &all, some[i], MOST_FDS, 2);
    }
    end_both(&two);
    end_files(&all);
}

EACH_KIND(too_many_descriptors_or_wrong_ones_are_not_sent) {
    files all = open_files();
    ends two = of->open();
    int wrong[2] = {-1, -1};
    wrong[0] = all.fds[0];
    if (of->local) {
        ck_assert_status(mtask_conn_send_fds(two.b, "x", 1, all.fds, MOST_FDS + 1, LONG),
                         MTASK_INVALID);
        testing_check(mtask_conn_send_fds(two.b, "x", 1, wrong, 2, LONG) != MTASK_OK);
        send_files(two.b, &all, 5, 1);
        check_files(two.a, &all, 5, MOST_FDS, 1);
    } else {
        ck_assert_status(mtask_conn_send_fds(two.b, "x", 1, all.fds, 1, LONG), MTASK_UNSUPPORTED);
        send_text(two.b, "y");
        check_text(two.a, "y");
        check_nothing_more(two.a);
    }
    end_both(&two);
    end_files(&all);
}

/* There is no number for them: all of them are lost, but not the message. */
EACH_KIND(descriptors_without_numbers_are_lost) {
    static const size_t some[] = {10, MIDDLE};
    struct rlimit before, few;
    files all = open_files();
    ends two = of->open();
    mtask_buf message = {NULL, 0, 0};
    int fds[MOST_FDS];
    size_t count = 99;
    wait_once();
    testing_check(getrlimit(RLIMIT_NOFILE, &before) == 0);
    for (size_t i = 0; of->local && i < COUNT_OF(some); i++) {
        int open_now = count_fds();
        send_files(two.b, &all, some[i], 5);
        few = before;
        few.rlim_cur = (rlim_t)dup(0); /* the lowest number that is free */
        close((int)few.rlim_cur);
        few.rlim_cur += 2;
        testing_check(setrlimit(RLIMIT_NOFILE, &few) == 0);
        ck_assert_status(mtask_conn_recv_fds(two.a, &message, fds, MOST_FDS, &count, LONG),
                         MTASK_SYSTEM);
        ck_assert_int_eq(errno, EMFILE);
        ck_assert_uint_eq(count, 0);
        testing_check(setrlimit(RLIMIT_NOFILE, &before) == 0);
        check_files(two.a, &all, some[i], MOST_FDS, 0);
        ck_assert_int_eq(count_fds(), open_now);
    }
    mtask_buf_free(&message);
    end_both(&two);
    end_files(&all);
}

typedef struct parcel {
    mtask_conn *conn;
    files all;
} parcel;

static void *send_big_files(void *arg) {
    parcel *self = (parcel *)arg;
    send_files(self->conn, &self->all, BIG, 9);
    return arg;
}

/* In attempts that end too early, of which the last takes them. */
static void *recv_big_files(void *arg) {
    parcel *self = (parcel *)arg;
    mtask_buf message = {NULL, 0, 0};
    int fds[MOST_FDS];
    size_t count = 0;
    for (int tries = 0; tries < 3; tries++) {
        mtask_status status = try_recv_into(self->conn, MTASK_NOWAIT);
        testing_check(status == MTASK_TIMEOUT || status == MTASK_OVERFLOW);
        linger();
    }
    ck_assert_status(mtask_conn_recv_fds(self->conn, &message, fds, MOST_FDS, &count, LONG),
                     MTASK_OK);
    check_message(&message, pattern, BIG);
    ck_assert_uint_eq(count, 9);
    check_fds(&self->all, fds, count);
    mtask_buf_free(&message);
    return arg;
}

static void play_big_files(const kind *of, place where) {
    parcel out, in;
    ends two;
    if (!of->local)
        return;
    two = of->open();
    out.all = in.all = open_files();
    out.conn = two.b;
    in.conn = two.a;
    run_both(recv_big_files, &in, send_big_files, &out, where);
    end_both(&two);
    end_files(&out.all);
}

START_TEST(descriptors_go_along_with_a_big_message) {
    each_kind_and_place(play_big_files);
}
END_TEST

/* Sends a big message with descriptors, and a small one with none. */
static void *send_big_then_small(void *arg) {
    parcel *self = (parcel *)arg;
    send_files(self->conn, &self->all, BIG, 9);
    send_bytes(self->conn, pattern, 10);
    return arg;
}

/* Begins to receive the big one with its descriptors, and goes on without. */
static void *recv_without_files(void *arg) {
    parcel *self = (parcel *)arg;
    mtask_status status = MTASK_TIMEOUT;
    for (int tries = 0; tries < 4 && status == MTASK_TIMEOUT; tries++) {
        status = try_recv_fds(self->conn, MTASK_NOWAIT);
        linger();
    }
    if (status == MTASK_TIMEOUT)
        check_recv(self->conn, pattern, BIG);
    check_files(self->conn, &self->all, 10, MOST_FDS, 0);
    return arg;
}

static void play_big_then_small(const kind *of, place where) {
    parcel out, in;
    ends two;
    if (!of->local)
        return;
    two = of->open();
    out.all = in.all = open_files();
    out.conn = two.b;
    in.conn = two.a;
    run_both(recv_without_files, &in, send_big_then_small, &out, where);
    end_both(&two);
    end_files(&out.all);
}

START_TEST(descriptors_stay_with_their_message) {
    each_kind_and_place(play_big_then_small);
}
END_TEST

/* Sends `count` descriptors with some bytes, past mtask. */
static void send_raw_fds(int fd, const void *data, size_t size, int what, size_t count) {
    union {
        char bytes[CMSG_SPACE(200 * sizeof(int))];
        struct cmsghdr align;
    } control;
    struct iovec part = {(void *)data, size};
    struct msghdr message;
    memset(&message, 0, sizeof message);
    memset(&control, 0, sizeof control);
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control.bytes;
    message.msg_controllen = CMSG_SPACE(count * sizeof(int));
    control.align.cmsg_level = SOL_SOCKET;
    control.align.cmsg_type = SCM_RIGHTS;
    control.align.cmsg_len = CMSG_LEN(count * sizeof(int));
    for (size_t i = 0; i < count; i++)
        memcpy(CMSG_DATA(&control.align) + i * sizeof(int), &what, sizeof what);
    testing_check(sendmsg(fd, &message, 0) == (ssize_t)size);
}

/* More than mtask sends, with bytes that are a message, a part of one, or none. */
EACH_KIND(a_flood_of_descriptors_stays_outside) {
    static const struct {
        const char *bytes;
        size_t size;
    } pieces[] = {{TEXT("\0\0\0\5hello")},
                  {TEXT("\0\0\0\5hel")},
                  {TEXT("\377\377\377\376hello")},
                  {TEXT("\0")}};
    int before;
    if (!of->local)
        return;
    wait_once();
    before = count_fds();
    for (size_t i = 0; i < COUNT_OF(pieces); i++)
        for (int by_fds = 0; by_fds < 2; by_fds++) {
            ends two = of->open();
            for (size_t n = 0; n < 3; n++)
                send_raw_fds(mtask_conn_fd(two.b), pieces[i].bytes, pieces[i].size, 0, 20 * n + 20);
            for (int tries = 0; tries < 4; tries++)
                (void)(by_fds ? try_recv_fds(two.a, MTASK_NOWAIT) : try_recv(two.a, MTASK_NOWAIT));
            ck_assert_int_le(count_fds(), before + 2 + MOST_FDS); /* of the message that goes on */
            end_both(&two);
            ck_assert_int_eq(count_fds(), before);
        }
}

/* ---- no memory ---- */

/* The `nth` allocation from now on fails, if there are so many. */
static void arm_memory(long nth) {
    __atomic_store_n(&fail_in, nth, __ATOMIC_SEQ_CST);
}

/* Whether it has failed; no other one does. */
static bool disarm_memory(void) {
    return __atomic_exchange_n(&fail_in, 0, __ATOMIC_SEQ_CST) <= 0;
}

/* Receives a message with `count` descriptors, the first time without memory, if that was needed;
   whether it was. */
static bool recv_without_memory(mtask_conn *in, const files *all, size_t size, size_t count,
                                long nth) {
    mtask_buf message = {NULL, 0, 0};
    mtask_status status;
    int fds[MOST_FDS];
    size_t got = 0;
    bool failed;
    arm_memory(nth);
    status = mtask_conn_recv_fds(in, &message, fds, MOST_FDS, &got, LONG);
    failed = disarm_memory();
    ck_assert_status(status, failed ? MTASK_NOMEM : MTASK_OK);
    if (failed)
        ck_assert_status(mtask_conn_recv_fds(in, &message, fds, MOST_FDS, &got, LONG), MTASK_OK);
    check_message(&message, pattern, size);
    ck_assert_uint_eq(got, count);
    check_fds(all, fds, got);
    mtask_buf_free(&message);
    return failed;
}

EACH_KIND(a_message_waits_until_there_is_memory) {
    static const size_t some[] = {1, 5000, MIDDLE};
    files all = open_files();
    ends two = of->open();
    for (size_t i = 0; i < COUNT_OF(some); i++) {
        size_t count = of->local ? 3 : 0;
        bool failed = true;
        for (long nth = 1; failed; nth++) {
            if (of->local)
                send_files(two.b, &all, some[i], count);
            else
                send_bytes(two.b, pattern, some[i]);
            ck_assert_status(mtask_conn_poll(two.a, LONG), MTASK_OK);
            failed = recv_without_memory(two.a, &all, some[i], count, nth);
            testing_check(failed || nth > 1);
        }
    }
    end_both(&two);
    end_files(&all);
}

EACH_KIND(without_memory_there_is_no_connection) {
    bool failed = true;
    wait_once();
    for (long nth = 1; failed && of->pipe; nth++) {
        ends two = {NULL, NULL};
        int before = count_fds();
        mtask_status status;
        arm_memory(nth);
        status = mtask_pipe(&two.a, &two.b, of->duplex);
        failed = disarm_memory();
        ck_assert_status(status, failed ? MTASK_NOMEM : MTASK_OK);
        if (status == MTASK_OK)
            end_both(&two);
        ck_assert_int_eq(count_fds(), before);
    }
}

/* ---- processes ---- */

enum {
    SENDERS = 4,
    RECEIVERS = 4,
    LETTERS = 2000, /* of all senders, or for all receivers */
};

/* A message that says what it is. */
typedef struct letter {
    uint32_t sender;
    uint32_t number;
    uint32_t size; /* of all of it */
    unsigned char rest[SMALL - 12];
} letter;

/* How long letter `number` is: some are as short, some as long as can be. */
static uint32_t letter_size(uint32_t number) {
    return number % 7 == 0 ? SMALL : 12 + number * 977 % 3000;
}

/* In a child: sends its letters. */
static void send_letters(mtask_conn *out, uint32_t sender, uint32_t count) {
    static letter one;
    for (uint32_t i = 0; i < count; i++) {
        one.sender = sender;
        one.number = i;
        one.size = letter_size(i);
        memset(one.rest, (int)(sender * 31 + i), one.size - 12);
        IN_CHILD(mtask_conn_send(out, &one, one.size, LONG) == MTASK_OK);
    }
}

static void check_letter(const letter *one, size_t size) {
    testing_check(size >= 12 && one->size == size && size == letter_size(one->number));
    for (size_t i = 0; i < size - 12; i++)
        testing_check(one->rest[i] == (unsigned char)(one->sender * 31 + one->number));
}

/* Receives letters until the end, each sender's in order; how many. Those of a sender that was
   killed may end early. */
static long recv_letters(mtask_conn *in) {
    static letter one;
    uint32_t next[SENDERS] = {0};
    mtask_status status;
    size_t size;
    long count = 0;
    while ((status = mtask_conn_recv_into(in, &one, sizeof one, &size, LONG)) == MTASK_OK) {
        check_letter(&one, size);
        testing_check(one.sender < SENDERS && one.number == next[one.sender]++);
        count++;
    }
    ck_assert_status(status, MTASK_CLOSED);
    return count;
}

static pid_t fork_sender(ends *two, uint32_t sender, uint32_t count) {
    pid_t pid = fork_child();
    if (pid == 0) {
        IN_CHILD(mtask_conn_close(two->a) == MTASK_OK);
        send_letters(two->b, sender, count);
        IN_CHILD(mtask_conn_close(two->b) == MTASK_OK);
        _exit(0);
    }
    return pid;
}

START_TEST(several_processes_send_through_one_end) {
    long each = testing_scale(LETTERS) / SENDERS + 20;
    for (int duplex = 0; duplex < 2; duplex++) {
        ends two = open_pipe_of(duplex == 1);
        pid_t pids[SENDERS];
        for (uint32_t i = 0; i < SENDERS; i++)
            pids[i] = fork_sender(&two, i, (uint32_t)each);
        end_conn(&two.b);
        ck_assert_int_eq(recv_letters(two.a), SENDERS * each);
        for (int i = 0; i < SENDERS; i++)
            reap(pids[i]);
        end_conn(&two.a);
    }
}
END_TEST

/* What receivers and the test share: how often each letter was received. */
typedef struct tally {
    mtask_word times[LETTERS];
    mtask_word total;
} tally;

static pid_t fork_receiver(ends *two, tally *counts) {
    static letter one;
    mtask_status status;
    size_t size;
    pid_t pid = fork_child();
    if (pid != 0)
        return pid;
    IN_CHILD(mtask_conn_close(two->b) == MTASK_OK);
    while ((status = mtask_conn_recv_into(two->a, &one, sizeof one, &size, LONG)) == MTASK_OK) {
        IN_CHILD(size >= 12 && one.size == size && one.number < LETTERS);
        (void)mtask_word_add(&counts->times[one.number], 1);
        (void)mtask_word_add(&counts->total, 1);
    }
    IN_CHILD(status == MTASK_CLOSED);
    _exit(0);
}

START_TEST(several_processes_receive_from_one_end) {
    uint32_t count = (uint32_t)testing_scale(LETTERS);
    for (int duplex = 0; duplex < 2; duplex++) {
        ends two = open_pipe_of(duplex == 1);
        tally *counts = (tally *)share_memory(sizeof *counts);
        pid_t pids[RECEIVERS];
        for (int i = 0; i < RECEIVERS; i++)
            pids[i] = fork_receiver(&two, counts);
        end_conn(&two.a);
        send_letters(two.b, 1, count);
        end_conn(&two.b);
        for (int i = 0; i < RECEIVERS; i++)
            reap(pids[i]);
        for (uint32_t i = 0; i < count; i++)
            ck_assert_uint_eq(mtask_word_load(&counts->times[i]), 1);
        ck_assert_uint_eq(mtask_word_load(&counts->total), count);
    }
}
END_TEST

static void recv_in_member(testing_member *self) {
    self->number = recv_letters((mtask_conn *)self->arg);
}

/* Some of the senders are killed: what the others send is whole, and so is what had been sent. */
START_TEST(killed_senders_leave_whole_messages) {
    testing_random random = testing_random_make(testing_seed(), 0);
    for (long round = testing_scale(16); round > 0; round--) {
        ends two = open_pipe_of(round % 2 == 0);
        testing_crowd reader;
        pid_t pids[SENDERS];
        for (uint32_t i = 0; i < SENDERS; i++)
            pids[i] = fork_sender(&two, i, i == 0 ? 100 : 1000000);
        end_conn(&two.b);
        testing_crowd_start(&reader, 1, recv_in_member, two.a);
        for (int i = 1; i < SENDERS; i++) {
            struct timespec pause = {0, (long)testing_below(&random, 1000000)};
            nanosleep(&pause, NULL);
            slay(pids[i]);
        }
        reap(pids[0]);
        testing_crowd_join(&reader);
        ck_assert_int_ge(reader.members[0].number, 100);
        end_conn(&two.a);
    }
}
END_TEST

/* Receives until the end; the last message was cut off. */
static void *recv_until_cut(void *arg) {
    mtask_status status;
    while ((status = try_recv((mtask_conn *)arg, LONG)) == MTASK_OK)
        continue;
    ck_assert_status(status, MTASK_CLOSED);
    check_end((mtask_conn *)arg);
    return arg;
}

static void cut_off(const kind *of, bool looks, mtask_fn recv_rest) {
    ends two = of->open();
    pid_t pid = fork_child();
    if (pid == 0) {
        IN_CHILD(mtask_conn_close(two.a) == MTASK_OK);
        for (;;)
            IN_CHILD(mtask_conn_send(two.b, pattern, BIG, LONG) == MTASK_OK);
    }
    end_conn(&two.b);
    ck_assert_status(mtask_conn_poll(two.a, LONG), MTASK_OK);
    if (looks)
        testing_check(try_recv_into(two.a, MTASK_NOWAIT) != MTASK_OK);
    testing_await_process_asleep(pid);
    slay(pid);
    (void)recv_rest(two.a);
    end_conn(&two.a);
}

static void *recv_until_cut_in_loop(void *arg) {
    return in_loop(recv_until_cut, arg);
}

START_TEST(a_sender_killed_in_the_midst_is_an_end) {
    for (size_t i = 0; i < COUNT_OF(kinds); i++) {
        if (!kinds[i].local)
            continue; /* TCP may have room for all of it */
        cut_off(&kinds[i], false, recv_until_cut);
        cut_off(&kinds[i], true, recv_until_cut_in_loop);
    }
}
END_TEST

START_TEST(a_receiver_killed_in_the_midst_breaks_the_sending) {
    for (size_t i = 0; i < COUNT_OF(kinds); i++) {
        ends two = kinds[i].open();
        pid_t pid = fork_child();
        if (pid == 0) {
            static char room[16];
            size_t size;
            IN_CHILD(mtask_conn_close(two.b) == MTASK_OK);
            IN_CHILD(mtask_conn_poll(two.a, LONG) == MTASK_OK);
            (void)mtask_conn_recv_into(two.a, room, sizeof room, &size, MTASK_NOWAIT);
            kill(getpid(), SIGKILL);
        }
        end_conn(&two.a);
        (void)send_big_until_broken(two.b);
        testing_check(waitpid(pid, NULL, 0) == pid);
        end_conn(&two.b);
    }
}
END_TEST

/* As long as one process has an end, the other end does not see its closing. */
EACH_KIND(a_forked_child_has_both_ends) {
    ends two = of->open();
    pid_t pid = fork_child();
    if (pid == 0) {
        size_t size;
        char room[16];
        IN_CHILD(mtask_conn_close(two.a) == MTASK_OK);
        IN_CHILD(mtask_conn_send(two.b, "from the child", 14, LONG) == MTASK_OK);
        if (of->duplex) {
            IN_CHILD(mtask_conn_recv_into(two.b, room, sizeof room, &size, LONG) == MTASK_OK);
            IN_CHILD(size == 4 && memcmp(room, "stop", 4) == 0);
        } else {
            testing_pause(5);
        }
        _exit(0); /* nobody closes its end */
    }
    end_conn(&two.b);
    check_text(two.a, "from the child");
    if (of->duplex) {
        ck_assert_status(try_recv(two.a, SHORT), MTASK_TIMEOUT);
        send_text(two.a, "stop");
    }
    check_end(two.a);
    reap(pid);
    end_conn(&two.a);
}

/* In a process: makes a connection of a descriptor, answers what comes with how long it was. */
static mtask_status answer_lengths(const void *in, size_t size, mtask_buf *out) {
    mtask_conn *conn = NULL;
    mtask_buf message = {NULL, 0, 0};
    mtask_status status;
    int fd;
    IN_CHILD(size == sizeof fd);
    memcpy(&fd, in, sizeof fd);
    IN_CHILD(mtask_conn_open(&conn, fd) == MTASK_OK);
    while ((status = mtask_conn_recv(conn, &message, LONG)) == MTASK_OK) {
        IN_CHILD(message.size == 0 || memcmp(message.data, pattern, message.size) == 0);
        IN_CHILD(mtask_conn_send(conn, &message.size, sizeof message.size, LONG) == MTASK_OK);
    }
    IN_CHILD(status == MTASK_CLOSED);
    IN_CHILD(mtask_conn_close(conn) == MTASK_OK);
    mtask_buf_free(&message);
    return mtask_buf_append(out, "done", 4);
}

static void talk_to_process(mtask_proc_method method) {
    for (size_t i = 0; i < COUNT_OF(kinds); i++) {
        static const size_t some[] = {0, 1, SMALL, SMALL + 1, BIG};
        mtask_proc_desc desc = {.call = answer_lengths, .method = method};
        mtask_proc *proc;
        ends two;
        int fd;
        if (!kinds[i].duplex)
            continue;
        two = kinds[i].open();
        fd = mtask_conn_fd(two.b);
        desc.in = &fd;
        desc.in_size = sizeof fd;
        desc.fds = &fd;
        desc.fd_count = 1;
        proc = start_desc(&desc);
        end_conn(&two.b);
        for (size_t n = 0; n < COUNT_OF(some); n++) {
            send_bytes(two.a, pattern, some[n]);
            check_recv(two.a, &some[n], sizeof some[n]);
        }
        if (method != MTASK_PROC_FORK) /* a copy of this process has a copy of this end */
            end_conn(&two.a);
        else
            testing_check(shutdown(mtask_conn_fd(two.a), SHUT_WR) == 0);
        (void)end_proc(proc, MTASK_OK);
        if (two.a != NULL)
            end_conn(&two.a);
    }
}

START_TEST(a_connection_is_handed_to_another_process) {
    by_each_method(talk_to_process);
}
END_TEST

/* ---- waiting for several ---- */

EACH_KIND(one_of_several_connections_is_ready) {
    enum { MANY = 5 };
    ends all[MANY];
    mtask_conn_case cases[MANY];
    for (size_t i = 0; i < MANY; i++) {
        all[i] = of->open();
        cases[i].conn = all[i].a;
        cases[i].fd = -1;
        cases[i].ready = true;
    }
    ck_assert_status(mtask_conn_wait(cases, MANY, MTASK_NOWAIT), MTASK_TIMEOUT);
    ck_assert_status(mtask_conn_wait(cases, MANY, SHORT), MTASK_TIMEOUT);
    for (size_t i = 0; i < MANY; i++)
        testing_check(!cases[i].ready);
    send_text(all[1].b, "");
    end_conn(&all[3].b);
    ck_assert_status(mtask_conn_poll(all[1].a, LONG), MTASK_OK);
    ck_assert_status(mtask_conn_poll(all[3].a, LONG), MTASK_OK);
    ck_assert_status(mtask_conn_wait(cases, MANY, LONG), MTASK_OK);
    for (size_t i = 0; i < MANY; i++)
        testing_check(cases[i].ready == (i == 1 || i == 3));
    check_text(all[1].a, "");
    ck_assert_status(mtask_conn_wait(cases, MANY, LONG), MTASK_OK);
    for (size_t i = 0; i < MANY; i++)
        testing_check(cases[i].ready == (i == 3));
    for (size_t i = 0; i < MANY; i++) {
        end_conn(&all[i].a);
        if (i != 3)
            end_conn(&all[i].b);
    }
}

/* A message that was looked at already is ready, whatever the descriptor says. */
EACH_KIND(a_message_that_did_not_fit_is_ready_beside_others) {
    static const size_t some[] = {10, SMALL, MIDDLE};
    ends two = of->open(), idle = of->open();
    mtask_conn_case cases[2];
    cases[0].conn = idle.a;
    cases[1].conn = two.a;
    cases[0].fd = cases[1].fd = -1;
    for (size_t i = 0; i < COUNT_OF(some); i++) {
        send_bytes(two.b, pattern, some[i]);
        check_too_small(two.a, 9, some[i]);
        cases[0].ready = true;
        cases[1].ready = false;
        ck_assert_status(mtask_conn_wait(cases, 2, LONG), MTASK_OK);
        testing_check(!cases[0].ready && cases[1].ready);
        check_ready(two.a);
        check_recv(two.a, pattern, some[i]);
        ck_assert_status(mtask_conn_wait(cases, 2, MTASK_NOWAIT), MTASK_TIMEOUT);
        testing_check(!cases[0].ready && !cases[1].ready);
    }
    end_both(&two);
    end_both(&idle);
}

static void *wait_beside_descriptors(void *arg) {
    ends two = open_duplex();
    int own[2], plain[2];
    mtask_conn_case cases[4];
    open_pipe(own);
    plain_pipe(plain);
    memset(cases, 0, sizeof cases);
    cases[0].conn = two.a;
    cases[1].fd = own[0];
    cases[2].fd = plain[0];
    cases[3].fd = -1;
    ck_assert_status(mtask_conn_wait(cases, 4, SHORT), MTASK_TIMEOUT);
    feed(plain[1], "x");
    ck_assert_status(mtask_conn_wait(cases, 4, LONG), MTASK_OK);
    testing_check(!cases[0].ready && !cases[1].ready && cases[2].ready && !cases[3].ready);
    feed(own[1], "x");
    send_text(two.b, "x");
    ck_assert_status(mtask_conn_wait(cases, 4, MTASK_NOWAIT), MTASK_OK);
    testing_check(cases[0].ready && cases[1].ready && cases[2].ready && !cases[3].ready);
    ck_assert_status(mtask_conn_wait(cases, 4, -1), MTASK_INVALID);
    ck_assert_status(mtask_conn_wait(cases + 3, 1, SHORT), MTASK_TIMEOUT);
    end_both(&two);
    end_fds(own);
    end_plain(plain);
    return arg;
}

START_TEST(connections_and_descriptors_are_waited_for_together) {
    everywhere(wait_beside_descriptors, NULL);
}
END_TEST

static void *wait_for_as_many_as_can_be(void *arg) {
    enum { MOST = 1024 };
    static mtask_conn_case cases[MOST + 1];
    ends two = open_one_way();
    for (size_t i = 0; i <= MOST; i++) {
        cases[i].conn = i == MOST - 1 ? two.a : NULL;
        cases[i].fd = -1;
    }
    ck_assert_status(mtask_conn_wait(cases, MOST, SHORT), MTASK_TIMEOUT);
    send_text(two.b, "x");
    ck_assert_status(mtask_conn_wait(cases, MOST, LONG), MTASK_OK);
    testing_check(cases[MOST - 1].ready && !cases[0].ready);
    ck_assert_status(mtask_conn_wait(cases, MOST + 1, LONG), MTASK_INVALID);
    end_both(&two);
    return arg;
}

START_TEST(so_many_can_be_waited_for) {
    everywhere(wait_for_as_many_as_can_be, NULL);
}
END_TEST

static void *sleep_for_ever(void *arg) {
    for (;;)
        testing_pause(1000);
    return arg;
}

static void *wait_for_sentinel(void *arg) {
    ends two = open_one_way();
    mtask_proc *proc = start_proc(sleep_for_ever, NULL);
    mtask_conn_case cases[2];
    memset(cases, 0, sizeof cases);
    cases[0].conn = two.a;
    ck_assert_status(mtask_proc_sentinel(proc, &cases[1].fd), MTASK_OK);
    ck_assert_status(mtask_conn_wait(cases, 2, SHORT), MTASK_TIMEOUT);
    ck_assert_status(mtask_proc_kill(proc), MTASK_OK);
    ck_assert_status(mtask_conn_wait(cases, 2, LONG), MTASK_OK);
    testing_check(!cases[0].ready && cases[1].ready);
    (void)end_proc(proc, MTASK_FAILED);
    end_both(&two);
    return arg;
}

START_TEST(connections_and_processes_are_waited_for_together) {
    if (HAS_PIDFD)
        everywhere(wait_for_sentinel, NULL);
}
END_TEST

static void *wait_for_one_case(void *arg) {
    ends *two = (ends *)arg;
    mtask_conn_case one = {two->a, -1, false};
    ck_assert_status(mtask_conn_wait(&one, 1, LONG), MTASK_OK);
    testing_check(one.ready);
    check_text(two->a, "wake up");
    return arg;
}

static void *send_when_it_waits(void *arg) {
    pairing *self = (pairing *)arg;
    await_flow(&self->both[0]);
    send_text(self->two.b, "wake up");
    return arg;
}

static void play_wait(const kind *of, place where) {
    pairing self;
    memset(&self, 0, sizeof self);
    self.two = of->open();
    self.both[0].fn = wait_for_one_case;
    self.both[0].arg = &self.two;
    self.both[1].fn = send_when_it_waits;
    self.both[1].arg = &self;
    run_flows(self.both, where);
    end_both(&self.two);
}

START_TEST(a_message_wakes_who_waits_for_several) {
    each_kind_and_place(play_wait);
}
END_TEST

/* ---- cancellation, signals ---- */

static mtask_status wait_for_message(mtask_conn *in, int64_t timeout) {
    mtask_conn_case one = {in, -1, false};
    return mtask_conn_wait(&one, 1, timeout);
}

static mtask_status send_big_once(mtask_conn *out, int64_t timeout) {
    return mtask_conn_send(out, pattern, BIG, timeout);
}

static mtask_status send_small_once(mtask_conn *out, int64_t timeout) {
    return mtask_conn_send(out, pattern, SMALL, timeout);
}

typedef mtask_status (*conn_call)(mtask_conn *conn, int64_t timeout);

/* Makes a call that waits until its task is cancelled. */
static void check_canceled(conn_call call, mtask_conn *conn) {
    mtask_limit limit;
    ck_assert_status(mtask_limit_begin(&limit, SHORT), MTASK_OK);
    ck_assert_status(call(conn, LONG), MTASK_CANCELED);
    ck_assert_status(mtask_limit_end(&limit), MTASK_TIMEOUT);
}

static void *cancel_calls(void *arg) {
    static const conn_call calls[] = {try_recv, try_recv_into, try_recv_fds, mtask_conn_poll,
                                      wait_for_message};
    const kind *of = (const kind *)arg;
    ends two = of->open();
    size_t sent;
    for (size_t i = 0; i < COUNT_OF(calls); i++) {
        check_canceled(calls[i], two.a);
        send_text(two.b, "nothing was lost");
        check_text(two.a, "nothing was lost");
    }
    sent = fill_up(two.b, SMALL);
    if (of->pipe) {
        check_canceled(send_small_once, two.b);
        check_sent(two.a, sent, SMALL);
        check_nothing_more(two.a);
        send_text(two.b, "here we are");
        check_text(two.a, "here we are");
        (void)fill_up(two.b, SMALL);
        check_canceled(send_big_once, two.b);
    }
    end_both(&two);
    return arg;
}

START_TEST(calls_of_a_cancelled_task_lose_nothing) {
    for (size_t i = 0; i < COUNT_OF(kinds); i++)
        (void)in_loop(cancel_calls, (void *)&kinds[i]);
}
END_TEST

/* A message of which the rest is sent later. */
typedef struct slow_sender {
    wire of;
    mtask_word rest_wanted;
} slow_sender;

static void *send_in_two_parts(void *arg) {
    slow_sender *self = (slow_sender *)arg;
    unsigned char head[4] = {0, BIG >> 16 & 255, BIG >> 8 & 255, BIG & 255};
    size_t first = BIG - 5;
    feed_bytes(self->of.fd, head, 4);
    ck_assert_status(mtask_io_write(self->of.fd, pattern, first, NULL, LONG), MTASK_OK);
    await_value(&self->rest_wanted, 1);
    ck_assert_status(mtask_io_write(self->of.fd, pattern + first, BIG - first, NULL, LONG),
                     MTASK_OK);
    return arg;
}

static void *cancel_between_parts(void *arg) {
    slow_sender self = {open_wire(), 0};
    mtask_future *sender = go(send_in_two_parts, &self);
    for (int i = 0; i < 3; i++)
        check_canceled(try_recv, self.of.conn);
    mtask_word_store(&self.rest_wanted, 1);
    check_recv(self.of.conn, pattern, BIG);
    (void)take(sender);
    end_wire(&self.of);
    return arg;
}

START_TEST(a_task_cancelled_in_the_midst_of_a_message_loses_nothing) {
    (void)in_loop(cancel_between_parts, NULL);
}
END_TEST

static void recv_in_crowd(testing_member *self) {
    self->status = try_recv((mtask_conn *)self->arg, LONG);
}

static void send_in_crowd(testing_member *self) {
    self->status = mtask_conn_send((mtask_conn *)self->arg, pattern, BIG, LONG);
}

START_TEST(signals_disturb_nobody) {
    testing_catch_signals();
    for (size_t i = 0; i < COUNT_OF(kinds); i++) {
        ends two = kinds[i].open();
        testing_crowd crowd;
        testing_crowd_start(&crowd, 1, recv_in_crowd, two.a);
        testing_interrupt(&crowd.members[0]);
        send_text(two.b, "at last");
        testing_crowd_join(&crowd);
        ck_assert_status(crowd.members[0].status, MTASK_OK);
        if (kinds[i].local) {
            testing_crowd_start(&crowd, 1, send_in_crowd, two.b);
            testing_interrupt(&crowd.members[0]);
            check_recv(two.a, pattern, BIG);
            testing_crowd_join(&crowd);
            ck_assert_status(crowd.members[0].status, MTASK_OK);
        }
        end_both(&two);
    }
}
END_TEST

/* ---- anything goes ---- */

/* What a sender and a receiver do by turns of one seed, each for itself. */
typedef struct mix {
    const kind *of;
    mtask_conn *conn;
    uint64_t seed;
    long rounds;
    files all;
} mix;

/* Draws the next message. */
static void draw(testing_random *random, bool local, size_t *at, size_t *size, size_t *count) {
    static const size_t most[] = {1, 20, 200, 5000, SMALL + 100, 100000};
    *at = (size_t)testing_below(random, 2000);
    *size = (size_t)testing_below(random, most[testing_below(random, COUNT_OF(most))]);
    *count = testing_below(random, 5) == 0 ? (size_t)testing_below(random, MOST_FDS + 1) : 0;
    if (!local)
        *count = 0;
}

static void *send_mix(void *arg) {
    mix *self = (mix *)arg;
    testing_random random = testing_random_make(self->seed, 0);
    size_t at, size, count;
    for (long i = 0; i < self->rounds; i++) {
        draw(&random, self->of->local, &at, &size, &count);
        ck_assert_status(count == 0 ? mtask_conn_send(self->conn, pattern + at, size, LONG)
                                    : mtask_conn_send_fds(self->conn, pattern + at, size,
                                                          self->all.fds, count, LONG),
                         MTASK_OK);
    }
    ck_assert_status(mtask_conn_close(self->conn), MTASK_OK);
    return arg;
}

/* One attempt to receive, in one of several ways. */
static mtask_status try_mix(mix *self, uint64_t way, mtask_buf *message, int *fds, size_t *count) {
    int64_t timeout = way % 2 == 0 ? LONG : MTASK_US((int64_t)(way / 2 % 4));
    char room[300];
    size_t size = 0;
    mtask_status status;
    *count = SIZE_MAX; /* not told */
    if (way / 8 % 3 == 0)
        return mtask_conn_recv(self->conn, message, timeout);
    if (way / 8 % 3 == 1)
        return mtask_conn_recv_fds(self->conn, message, fds, MOST_FDS, count, timeout);
    status =
        mtask_conn_recv_into(self->conn, room, (size_t)(way / 24 % sizeof room), &size, timeout);
    if (status == MTASK_OK) {
        mtask_buf_free(message);
        ck_assert_status(mtask_buf_append(message, room, size), MTASK_OK);
    }
    return status;
}

static void *recv_mix(void *arg) {
    mix *self = (mix *)arg;
    testing_random random = testing_random_make(self->seed, 0);
    testing_random own = testing_random_make(self->seed, 1);
    mtask_buf message = {NULL, 0, 0};
    size_t at, size, count, got;
    int fds[MOST_FDS];
    for (long i = 0; i < self->rounds; i++) {
        mtask_status status;
        draw(&random, self->of->local, &at, &size, &count);
        do {
            status = try_mix(self, testing_below(&own, 1000000), &message, fds, &got);
            if (status == MTASK_TIMEOUT)
                (void)mtask_yield();
        } while (status == MTASK_TIMEOUT || status == MTASK_OVERFLOW);
        ck_assert_status(status, MTASK_OK);
        check_message(&message, pattern + at, size);
        if (got != SIZE_MAX) {
            ck_assert_uint_eq(got, count);
            check_fds(&self->all, fds, got);
        }
    }
    check_end(self->conn);
    mtask_buf_free(&message);
    return arg;
}

START_TEST(any_mixture_of_calls_gets_all_messages) {
    uint64_t seed = testing_seed();
    for (size_t i = 0; i < COUNT_OF(kinds); i++)
        for (int where = 0; where < PLACES; where++) {
            ends two = kinds[i].open();
            mix out = {&kinds[i], two.b, seed + i, testing_scale(600), open_files()};
            mix in = out;
            in.conn = two.a;
            run_both(send_mix, &out, recv_mix, &in, (place)where);
            end_conn(&two.a);
            end_files(&out.all);
        }
}
END_TEST

/* ---- listeners and clients ---- */

/* The callback, by OpenSSL; `ctx` (NULL allowed) counts the calls. */
static bool hmac(const char *digest, const void *key, size_t key_size, const void *data,
                 size_t size, unsigned char *mac, size_t *mac_size, void *ctx) {
    const EVP_MD *kind_of = NULL;
    unsigned length = 0;
    if (ctx != NULL)
        (void)mtask_word_add((mtask_word *)ctx, 1);
    if (strcmp(digest, "sha256") == 0)
        kind_of = EVP_sha256();
    else if (strcmp(digest, "md5") == 0)
        kind_of = EVP_md5();
    if (kind_of == NULL ||
        HMAC(kind_of, key, (int)key_size, (const unsigned char *)data, size, mac, &length) == NULL)
        return false;
    *mac_size = length;
    return true;
}

static mtask_conn_desc with_key(const char *key) {
    mtask_conn_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.key = key;
    desc.key_size = strlen(key);
    desc.hmac = hmac;
    return desc;
}

/* Where to listen. */
enum { BY_TCP, BY_PATH, SITES };

/* A listener, a client of it, and how they got on. */
typedef struct meeting {
    mtask_conn_listener *listener;
    char address[MTASK_ADDRESS_TEXT];
    const mtask_conn_desc *client; /* how it connects */
    int64_t accept_for;
    int64_t connect_for;
    mtask_status accepted;
    mtask_status connected;
    mtask_conn *here; /* the listener's end */
    mtask_conn *there;
} meeting;

/* The folder must be open. */
static void open_meeting(meeting *self, int site, const mtask_conn_desc *desc) {
    mtask_address address;
    char text[340];
    memset(self, 0, sizeof *self);
    self->accept_for = self->connect_for = LONG;
    snprintf(text, sizeof text, "unix:%s", path_of("socket"));
    ck_assert_status(
        mtask_conn_listener_open(&self->listener, site == BY_TCP ? "127.0.0.1:0" : text, desc),
        MTASK_OK);
    testing_check(self->listener != NULL);
    ck_assert_status(mtask_conn_listener_address(self->listener, &address), MTASK_OK);
    (void)mtask_address_text(&address, self->address, sizeof self->address);
}

static void *accept_one(void *arg) {
    meeting *self = (meeting *)arg;
    self->here = (mtask_conn *)self;
    self->accepted = mtask_conn_listener_accept(self->listener, &self->here, self->accept_for);
    testing_check((self->accepted == MTASK_OK) == (self->here != NULL));
    return arg;
}

static void *connect_one(void *arg) {
    meeting *self = (meeting *)arg;
    self->there = (mtask_conn *)self;
    self->connected =
        mtask_conn_connect(&self->there, self->address, self->client, self->connect_for);
    testing_check((self->connected == MTASK_OK) == (self->there != NULL));
    return arg;
}

static void end_conns(meeting *self) {
    if (self->here != NULL)
        end_conn(&self->here);
    if (self->there != NULL)
        end_conn(&self->there);
}

static void end_meeting(meeting *self) {
    end_conns(self);
    mtask_conn_listener_close(self->listener);
}

static void meet(meeting *self, const mtask_conn_desc *client, place where) {
    self->client = client;
    run_both(accept_one, self, connect_one, self, where);
}

/* Fails the test unless a client and the listener get on with each other, and talk. */
static void check_meet(meeting *self, const mtask_conn_desc *client, place where) {
    meet(self, client, where);
    ck_assert_status(self->accepted, MTASK_OK);
    ck_assert_status(self->connected, MTASK_OK);
    send_text(self->there, "hello");
    check_text(self->here, "hello");
    send_bytes(self->here, NULL, 0);
    check_recv(self->there, NULL, 0);
    end_conns(self);
}

static void check_part(meeting *self, const mtask_conn_desc *client, place where) {
    meet(self, client, where);
    ck_assert_status(self->accepted, MTASK_AUTH);
    ck_assert_status(self->connected, MTASK_AUTH);
}

static void each_site_and_place(void (*run)(int site, place where)) {
    open_folder();
    for (int site = 0; site < SITES; site++)
        for (int where = 0; where < PLACES; where++)
            run(site, (place)where);
    ck_assert_int_eq(count_files(false), 0);
    end_folder();
}

static void play_open_house(int site, place where) {
    meeting self;
    open_meeting(&self, site, NULL);
    check_meet(&self, NULL, where);
    meet(&self, NULL, where);
    run_both(send_sizes, self.here, recv_sizes, self.there, where);
    end_meeting(&self);
}

START_TEST(clients_connect_to_a_listener) {
    each_site_and_place(play_open_house);
}
END_TEST

static void play_key(int site, place where) {
    char key[] = "open sesame";
    mtask_word calls = 0;
    mtask_conn_desc desc = with_key(key), client = with_key("open sesame");
    meeting self;
    desc.ctx = client.ctx = &calls;
    open_meeting(&self, site, &desc);
    memset(key, '#', sizeof key - 1); /* it was copied */
    for (int round = 0; round < 2; round++)
        check_meet(&self, &client, where);
    ck_assert_uint_ge(mtask_word_load(&calls), 8); /* each makes one proof and checks one */
    end_meeting(&self);
}

START_TEST(who_knows_the_key_is_let_in) {
    each_site_and_place(play_key);
}
END_TEST

static void play_wrong_key(int site, place where) {
    mtask_conn_desc desc = with_key("right"), right = desc, wrong = with_key("wrong");
    meeting self;
    open_meeting(&self, site, &desc);
    check_part(&self, &wrong, where);
    check_part(&self, &wrong, where);
    check_meet(&self, &right, where);
    wrong.key = "right beside";
    wrong.key_size = 12;
    check_part(&self, &wrong, where);
    wrong.key_size = 4;
    check_part(&self, &wrong, where);
    check_meet(&self, &right, where);
    end_meeting(&self);
}

START_TEST(who_has_a_wrong_key_is_not_let_in) {
    each_site_and_place(play_wrong_key);
}
END_TEST

/* A client that knows of no key is not asked; the listener waits for its proof. */
static void play_no_key(int site, place where) {
    mtask_conn_desc desc = with_key("key"), right = desc;
    int64_t before = mtask_now();
    meeting self;
    desc.patience = SHORT;
    open_meeting(&self, site, &desc);
    meet(&self, NULL, where);
    ck_assert_status(self.accepted, MTASK_AUTH);
    ck_assert_status(self.connected, MTASK_OK);
    ck_assert_int_ge(mtask_now() - before, SHORT);
    while (try_recv(self.there, LONG) == MTASK_OK) /* the question that it did not expect */
        continue;
    end_conns(&self);
    end_meeting(&self);
    desc.patience = 0;
    open_meeting(&self, site, &desc);
    check_meet(&self, &right, where);
    end_meeting(&self);
}

START_TEST(who_has_no_key_is_not_let_in) {
    each_site_and_place(play_no_key);
}
END_TEST

/* A client wants to see a proof, and the listener knows of no key. */
static void play_no_proof(int site, place where) {
    mtask_conn_desc client = with_key("key");
    meeting self;
    open_meeting(&self, site, NULL);
    self.connect_for = SHORT;
    meet(&self, &client, where);
    ck_assert_status(self.accepted, MTASK_OK);
    ck_assert_status(self.connected, MTASK_TIMEOUT);
    check_end(self.here);
    end_conns(&self);
    self.connect_for = LONG;
    check_meet(&self, NULL, where);
    end_meeting(&self);
}

START_TEST(a_listener_without_a_key_gives_no_proof) {
    each_site_and_place(play_no_proof);
}
END_TEST

static bool no_hmac(const char *digest, const void *key, size_t key_size, const void *data,
                    size_t size, unsigned char *mac, size_t *mac_size, void *ctx) {
    (void)digest, (void)key, (void)key_size, (void)data, (void)size, (void)mac, (void)mac_size;
    (void)ctx;
    return false;
}

static void play_no_hmac(int site, place where) {
    mtask_conn_desc desc = with_key("key"), client = desc;
    meeting self;
    desc.hmac = no_hmac;
    open_meeting(&self, site, &desc);
    meet(&self, &client, where);
    testing_check(self.accepted != MTASK_OK && self.connected != MTASK_OK);
    end_meeting(&self);
    desc.hmac = hmac;
    client.hmac = no_hmac;
    open_meeting(&self, site, &desc);
    meet(&self, &client, where);
    testing_check(self.accepted != MTASK_OK && self.connected != MTASK_OK);
    end_meeting(&self);
}

START_TEST(without_a_digest_nobody_is_let_in) {
    each_site_and_place(play_no_hmac);
}
END_TEST

START_TEST(a_key_needs_a_digest) {
    mtask_conn_desc desc = with_key("key");
    mtask_conn_listener *listener = (mtask_conn_listener *)&desc;
    mtask_conn *conn = (mtask_conn *)&desc;
    desc.hmac = NULL;
    ck_assert_status(mtask_conn_listener_open(&listener, "127.0.0.1:0", &desc), MTASK_INVALID);
    ck_assert_ptr_null(listener);
    ck_assert_status(mtask_conn_connect(&conn, "127.0.0.1:1", &desc, LONG), MTASK_INVALID);
    ck_assert_ptr_null(conn);
    ck_assert_status(mtask_conn_listener_open(&listener, "nonsense", NULL), MTASK_INVALID);
    ck_assert_status(mtask_conn_connect(&conn, "unix:/nowhere/at/all", NULL, LONG), MTASK_SYSTEM);
    ck_assert_int_eq(errno, ENOENT);
    ck_assert_ptr_null(conn);
    mtask_conn_listener_close(NULL);
}
END_TEST

static void play_limits(int site, place where) {
    mtask_conn_desc desc, client;
    meeting self;
    memset(&desc, 0, sizeof desc);
    desc.limit = 50;
    client = desc;
    client.limit = 70;
    open_meeting(&self, site, &desc);
    meet(&self, &client, where);
    send_bytes(self.there, pattern, 50);
    send_bytes(self.there, pattern, 51);
    send_bytes(self.here, pattern, 70);
    send_bytes(self.here, pattern, 71);
    check_recv(self.here, pattern, 50);
    ck_assert_status(try_recv(self.here, LONG), MTASK_OVERFLOW);
    check_recv(self.there, pattern, 70);
    ck_assert_status(try_recv(self.there, LONG), MTASK_OVERFLOW);
    end_meeting(&self);
}

START_TEST(connections_have_the_limit_of_their_description) {
    each_site_and_place(play_limits);
}
END_TEST

/* ---- who connects, and then does nothing ---- */

static int raw_connect(const char *address) {
    int fd = -1;
    ck_assert_status(mtask_tcp_connect(&fd, address, LONG), MTASK_OK);
    return fd;
}

static void *accept_nobody(void *arg) {
    int site = *(int *)arg;
    mtask_conn_desc desc = with_key("key");
    int64_t before;
    meeting self;
    int fd;
    desc.patience = SHORT;
    open_meeting(&self, site, &desc);
    self.accept_for = MTASK_NOWAIT;
    (void)accept_one(&self);
    ck_assert_status(self.accepted, MTASK_TIMEOUT);
    self.accept_for = SHORT;
    before = mtask_now();
    (void)accept_one(&self);
    ck_assert_status(self.accepted, MTASK_TIMEOUT);
    ck_assert_int_eq(polled(mtask_conn_listener_fd(self.listener), POLLIN), 0);
    fd = raw_connect(self.address);
    ck_assert_status(mtask_io_wait(mtask_conn_listener_fd(self.listener), MTASK_IO_READ, LONG),
                     MTASK_OK);
    (void)accept_one(&self); /* somebody came in time, and proves nothing */
    ck_assert_status(self.accepted, MTASK_AUTH);
    ck_assert_int_ge(mtask_now() - before, 2 * SHORT);
    ck_assert_status(mtask_conn_listener_accept(self.listener, &self.here, -1), MTASK_INVALID);
    end_fd(fd);
    mtask_conn_listener_close(self.listener);
    return arg;
}

START_TEST(accepting_waits_as_long_as_it_is_told) {
    open_folder();
    for (int site = 0; site < SITES; site++)
        everywhere(accept_nobody, &site);
    end_folder();
}
END_TEST

/* Connects, says nothing, and goes when it is told to go. */
static void *stay_silent(void *arg) {
    meeting *self = (meeting *)arg;
    int fd = raw_connect(self->address);
    char bytes[256];
    while (mtask_io_read(fd, bytes, sizeof bytes, NULL, LONG) == MTASK_OK)
        continue;
    end_fd(fd);
    return arg;
}

static void play_silence(int site, place where) {
    mtask_conn_desc desc = with_key("key"), right = desc;
    int64_t before = mtask_now();
    meeting self;
    desc.patience = SHORT;
    open_meeting(&self, site, &desc);
    run_both(accept_one, &self, stay_silent, &self, where);
    ck_assert_status(self.accepted, MTASK_AUTH);
    ck_assert_int_ge(mtask_now() - before, SHORT);
    mtask_conn_listener_close(self.listener);
    desc.patience = LONG;
    open_meeting(&self, site, &desc);
    check_meet(&self, &right, where);
    end_meeting(&self);
}

START_TEST(a_listener_loses_patience) {
    each_site_and_place(play_silence);
}
END_TEST

/* Sends a byte now and then; patience is for all of them. */
static void *dribble(void *arg) {
    meeting *self = (meeting *)arg;
    static const unsigned char head[4] = {0, 0, 0, 255};
    int fd = raw_connect(self->address);
    mtask_status status = mtask_io_write(fd, head, 4, NULL, LONG);
    intptr_t sent = 0;
    while (status == MTASK_OK && sent < 255) {
        status = mtask_io_write(fd, "#", 1, NULL, LONG);
        sent++;
        (void)mtask_sleep(MTASK_MS(2));
    }
    end_fd(fd);
    testing_check(sent < 255);
    return arg;
}

START_TEST(bytes_now_and_then_do_not_prolong_it) {
    mtask_conn_desc desc = with_key("key");
    meeting self;
    desc.patience = MTASK_MS(10);
    open_folder();
    for (int site = 0; site < SITES; site++) {
        open_meeting(&self, site, &desc);
        run_both(accept_one, &self, dribble, &self, IN_THREADS);
        ck_assert_status(self.accepted, MTASK_AUTH);
        mtask_conn_listener_close(self.listener);
    }
    end_folder();
}
END_TEST

/* While one acceptor waits for a client's proof, another one lets others in. */
static void *accept_beside_silence(void *arg) {
    int site = *(int *)arg;
    mtask_conn_desc desc = with_key("key"), right = desc;
    meeting silent, good;
    mtask_future *waits, *connects;
    int fd;
    desc.patience = LONG;
    open_meeting(&silent, site, &desc);
    good = silent;
    good.client = &right;
    fd = raw_connect(silent.address);
    waits = go(accept_one, &silent);
    for (int turn = 0; turn < 5; turn++)
        linger();
    testing_check(!mtask_future_done(waits));
    connects = go(connect_one, &good);
    (void)accept_one(&good);
    (void)take(connects);
    ck_assert_status(good.accepted, MTASK_OK);
    ck_assert_status(good.connected, MTASK_OK);
    testing_check(!mtask_future_done(waits));
    end_fd(fd);
    (void)take(waits);
    ck_assert_status(silent.accepted, MTASK_AUTH);
    end_meeting(&good);
    return arg;
}

START_TEST(a_silent_client_holds_up_one_acceptor) {
    open_folder();
    for (int site = 0; site < SITES; site++)
        (void)in_loop(accept_beside_silence, &site);
    end_folder();
}
END_TEST

/* A task that is cancelled while it accepts, or in the midst of a proof. */
static void *cancel_meetings(void *arg) {
    int site = *(int *)arg;
    mtask_conn_desc desc = with_key("key"), right = desc;
    meeting self;
    desc.patience = LONG;
    open_meeting(&self, site, &desc);
    for (int silent = 0; silent < 2; silent++) {
        int fd = silent ? raw_connect(self.address) : -1;
        mtask_limit limit;
        ck_assert_status(mtask_limit_begin(&limit, SHORT), MTASK_OK);
        (void)accept_one(&self);
        ck_assert_status(self.accepted, MTASK_CANCELED);
        ck_assert_status(mtask_limit_end(&limit), MTASK_TIMEOUT);
        if (silent)
            end_fd(fd);
    }
    for (int round = 0; round < 2; round++) {
        mtask_limit limit;
        self.client = &right; /* nobody accepts it */
        ck_assert_status(mtask_limit_begin(&limit, SHORT), MTASK_OK);
        (void)connect_one(&self);
        ck_assert_status(self.connected, MTASK_CANCELED);
        ck_assert_status(mtask_limit_end(&limit), MTASK_TIMEOUT);
    }
    end_meeting(&self);
    return arg;
}

START_TEST(meetings_can_be_cancelled) {
    open_folder();
    for (int site = 0; site < SITES; site++) {
        int before;
        wait_once();
        before = count_fds();
        (void)in_loop(cancel_meetings, &site);
        ck_assert_int_eq(count_fds(), before);
    }
    end_folder();
}
END_TEST

/* ---- many at once ---- */

enum { CLIENTS = 12, ACCEPTORS = 3 };

typedef struct party {
    meeting at; /* its listener */
    mtask_conn_desc client;
    mtask_word accepted;
    mtask_word next;
} party;

/* Accepts until all are here; answers each one's number with the next. */
static void *host(void *arg) {
    party *self = (party *)arg;
    while (mtask_word_add(&self->accepted, 1) < CLIENTS) {
        mtask_conn *conn = NULL;
        size_t size = 0;
        long number = 0;
        ck_assert_status(mtask_conn_listener_accept(self->at.listener, &conn, LONG), MTASK_OK);
        ck_assert_status(mtask_conn_recv_into(conn, &number, sizeof number, &size, LONG), MTASK_OK);
        ck_assert_uint_eq(size, sizeof number);
        number++;
        send_bytes(conn, &number, sizeof number);
        end_conn(&conn);
    }
    return arg;
}

static void *visit(void *arg) {
    party *self = (party *)arg;
    mtask_conn *conn = NULL;
    long number = (long)mtask_word_add(&self->next, 1) * 1000;
    ck_assert_status(mtask_conn_connect(&conn, self->at.address, &self->client, LONG), MTASK_OK);
    send_bytes(conn, &number, sizeof number);
    number++;
    check_recv(conn, &number, sizeof number);
    check_end(conn);
    end_conn(&conn);
    return arg;
}

static void party_in_crowd(testing_member *self) {
    (void)(self->index < ACCEPTORS ? host(self->arg) : visit(self->arg));
}

static void *party_in_tasks(void *arg) {
    mtask_future *futures[ACCEPTORS + CLIENTS];
    for (size_t i = 0; i < COUNT_OF(futures); i++)
        futures[i] = go(i < ACCEPTORS ? host : visit, arg);
    for (size_t i = 0; i < COUNT_OF(futures); i++)
        (void)take(futures[i]);
    return arg;
}

static void open_party(party *self, int site, const mtask_conn_desc *desc) {
    memset(self, 0, sizeof *self);
    open_meeting(&self->at, site, desc);
    self->client = *desc;
}

START_TEST(many_clients_and_acceptors_meet) {
    mtask_conn_desc desc = with_key("key");
    open_folder();
    for (int site = 0; site < SITES; site++) {
        party self;
        testing_crowd crowd;
        open_party(&self, site, &desc);
        testing_crowd_start(&crowd, ACCEPTORS + CLIENTS, party_in_crowd, &self);
        testing_crowd_join(&crowd);
        mtask_conn_listener_close(self.at.listener);
        open_party(&self, site, &desc);
        (void)in_loop(party_in_tasks, &self);
        mtask_conn_listener_close(self.at.listener);
    }
    end_folder();
}
END_TEST

START_TEST(the_file_of_a_socket_goes_with_its_listener) {
    meeting self;
    open_folder();
    for (int round = 0; round < 2; round++) {
        open_meeting(&self, BY_PATH, NULL);
        ck_assert_int_eq(count_files(false), 1);
        ck_assert_int_eq(strncmp(self.address, "unix:/", 6), 0);
        testing_check((fcntl(mtask_conn_listener_fd(self.listener), F_GETFD) & FD_CLOEXEC) != 0);
        end_meeting(&self);
        ck_assert_int_eq(count_files(false), 0);
        ck_assert_status(mtask_conn_connect(&self.there, self.address, NULL, LONG), MTASK_SYSTEM);
    }
    end_folder();
}
END_TEST

/* In a forked child: accepts one and tells it who it is. */
static void accept_in_child(mtask_conn_listener *listener) {
    mtask_conn *conn = NULL;
    IN_CHILD(mtask_conn_listener_accept(listener, &conn, LONG) == MTASK_OK);
    IN_CHILD(mtask_conn_send(conn, "child", 5, LONG) == MTASK_OK);
    IN_CHILD(mtask_conn_close(conn) == MTASK_OK);
    mtask_conn_listener_close(listener);
}

/* It may accept, too; its end is not the listener's. */
START_TEST(a_forked_child_accepts_and_takes_nothing_away) {
    meeting self;
    pid_t pid;
    open_folder();
    for (int site = 0; site < SITES; site++) {
        open_meeting(&self, site, NULL);
        pid = fork_child();
        if (pid == 0) {
            accept_in_child(self.listener);
            _exit(0);
        }
        (void)connect_one(&self);
        ck_assert_status(self.connected, MTASK_OK);
        check_text(self.there, "child");
        check_end(self.there);
        end_conns(&self);
        reap(pid);
        ck_assert_int_eq(count_files(false), site == BY_PATH);
        check_meet(&self, NULL, IN_TASKS);
        end_meeting(&self);
    }
    ck_assert_int_eq(count_files(false), 0);
    end_folder();
}
END_TEST

/* ---- the protocol, byte by byte: the other side is played by hand ---- */

/* What a frame of the proof may say; the listener asks first, then the client. */
typedef struct answer {
    const char *tag;    /* what stands before the proof, */
    const char *digest; /* which is made so, */
    size_t size;        /* and so long, */
    const char *more;   /* and what stands behind */
    bool right;
    bool right_md5; /* where HMAC-MD5 is allowed */
} answer;

static const answer answers[] = {
    {"{sha256}", "sha256", 32, "", true, true},
    {"{md5}", "md5", 16, "", false, true},
    {"", "md5", 16, "", false, true},
    {"{sha256}", "sha256", 31, "", false, false},
    {"{sha256}", "sha256", 0, "", false, false},
    {"{sha256}", "sha256", 32, "x", false, false},
    {"{sha256}", "sha256", 1, "", false, false},
    {"", "sha256", 32, "", false, false},
    {"", "sha256", 16, "", false, false},
    {"", "sha256", 20, "", false, false},
    {"{md5}", "sha256", 16, "", false, false},
    {"{md5}", "md5", 0, "", false, false},
    {"", "md5", 0, "", false, false},
    {"{sha256}", "md5", 16, "", false, false},
    {"{sha384}", "sha256", 32, "", false, false},
    {"{SHA256}", "sha256", 32, "", false, false},
    {"{sha256", "sha256", 32, "", false, false},
    {"{", "sha256", 0, "", false, false},
    {"{}", "sha256", 32, "", false, false},
    {"{sha2", "sha256", 0, "", false, false},
};

typedef struct question {
    const char *head;
    const char *tag;
    size_t size;         /* of the random bytes behind */
    const char *tag_md5; /* how it is answered: where HMAC-MD5 is allowed, */
    const char *digest;
    bool right; /* and whether it is where it is not */
    bool right_md5;
} question;

#define ASKS "#CHALLENGE#"

static const question questions[] = {
    {ASKS, "{sha256}", 40, "{sha256}", "sha256", true, true},
    {ASKS, "{md5}", 40, "{md5}", "md5", false, true},
    {ASKS, "", 20, "", "md5", false, true},
    {ASKS, "{sha256}", 0, "", "", false, false},
    {ASKS, "", 0, "", "", false, false},
    {ASKS, "", 30, "", "", false, false},
    {ASKS, "{sha512}", 40, "", "", false, false},
    {ASKS, "{sha256", 40, "", "", false, false},
    {ASKS, "{sha256}", 300, "", "", false, false},
    {"#CHALLENGE", "{sha256}", 40, "", "", false, false},
    {"", "{sha256}", 40, "", "", false, false},
    {"#WELCOME#", "", 0, "", "", false, false},
};

static const char *const verdicts[] = {"#WELCOME#", "#FAILURE#", "", "#WELCOME# ", "#WELCOME"};

/* What the side that is played by hand says. */
typedef struct play {
    const answer *answers;
    const question *asks;
    const char *verdict;
    bool md5;        /* the other side allows it */
    bool listens;    /* this one is the listener */
    bool hears_yes;  /* it was told that its proof is right, */
    bool sees_proof; /* and got one */
    int socket;      /* listening */
    char address[MTASK_ADDRESS_TEXT];
    meeting *other;
} play;

static bool read_fully(int fd, void *buffer, size_t size) {
    for (size_t done = 0, count; done < size; done += count)
        if (mtask_io_read(fd, (char *)buffer + done, size - done, &count, LONG) != MTASK_OK)
            return false;
    return true;
}

/* Reads a frame of at most 400 bytes; false: there is none. */
static bool read_frame(int fd, unsigned char *frame, size_t *size) {
    unsigned char head[4];
    if (!read_fully(fd, head, 4))
        return false;
    testing_check(head[0] == 0 && head[1] == 0);
    *size = (size_t)head[2] << 8 | head[3];
    testing_check(*size <= 400);
    return read_fully(fd, frame, *size);
}

static void write_frame(int fd, const void *data, size_t size) {
    unsigned char frame[500] = {0, 0};
    testing_check(size <= sizeof frame - 4);
    frame[2] = (unsigned char)(size >> 8);
    frame[3] = (unsigned char)size;
    memcpy(frame + 4, data, size);
    (void)mtask_io_write(fd, frame, size + 4, NULL, LONG); /* it may be closed */
}

static size_t put_text(unsigned char *frame, size_t at, const char *text) {
    memcpy(frame + at, text, strlen(text));
    return at + strlen(text);
}

static size_t put_proof(unsigned char *frame, size_t at, const char *digest, const void *asked,
                        size_t size) {
    size_t length = 0;
    testing_check(hmac(digest, "key", 3, asked, size, frame + at, &length, NULL));
    return length;
}

/* Reads the other side's question and answers it. */
static bool play_answer(play *self, int fd) {
    unsigned char asked[400], frame[400];
    size_t size, at;
    if (!read_frame(fd, asked, &size))
        return false;
    testing_check(size >= 39 && memcmp(asked, ASKS "{sha256}", 19) == 0);
    at = put_text(frame, 0, self->answers->tag);
    (void)put_proof(frame, at, self->answers->digest, asked + 11, size - 11);
    at = put_text(frame, at + self->answers->size, self->answers->more);
    write_frame(fd, frame, at);
    if (!read_frame(fd, frame, &size))
        return false;
    self->hears_yes = size == 9 && memcmp(frame, "#WELCOME#", 9) == 0;
    testing_check(self->hears_yes || (size == 9 && memcmp(frame, "#FAILURE#", 9) == 0));
    return self->hears_yes;
}

/* Asks the other side, looks at its answer, and tells what it is to think of it. */
static bool play_question(play *self, int fd) {
    unsigned char asked[400], frame[400], wanted[400];
    size_t at = put_text(asked, 0, self->asks->head), head = at, size;
    at = put_text(asked, at, self->asks->tag);
    memcpy(asked + at, pattern + 99, self->asks->size);
    at += self->asks->size;
    write_frame(fd, asked, at);
    if (!read_frame(fd, frame, &size))
        return false;
    testing_check(self->md5 ? self->asks->right_md5 : self->asks->right);
    at -= head;
    head = put_text(wanted, 0, self->asks->tag_md5);
    head += put_proof(wanted, head, self->asks->digest, asked + 11, at);
    check_bytes(frame, size, wanted, head);
    self->sees_proof = true;
    write_frame(fd, self->verdict, strlen(self->verdict));
    return true;
}

/* Then it echoes one message. */
static void play_echo(int fd) {
    unsigned char frame[400];
    size_t size;
    if (read_frame(fd, frame, &size))
        write_frame(fd, frame, size);
}

static void *play_by_hand(void *arg) {
    play *self = (play *)arg;
    int fd = -1;
    char byte;
    if (self->listens)
        ck_assert_status(mtask_tcp_accept(self->socket, &fd, NULL, LONG), MTASK_OK);
    else
        fd = raw_connect(self->address);
    if (self->listens ? play_question(self, fd) && play_answer(self, fd)
                      : play_answer(self, fd) && play_question(self, fd))
        play_echo(fd);
    while (!self->listens && mtask_io_read(fd, &byte, 1, NULL, LONG) == MTASK_OK)
        continue; /* the listener ends it, without being asked to */
    end_fd(fd);
    return arg;
}

/* What the side that is mtask's does. */
static void *play_other(void *arg) {
    meeting *self = (meeting *)arg;
    mtask_conn **conn = self->listener != NULL ? &self->here : &self->there;
    (void)(self->listener != NULL ? accept_one(self) : connect_one(self));
    if (*conn != NULL) {
        send_text(*conn, "echo");
        check_text(*conn, "echo");
        end_conn(conn);
    }
    return arg;
}

static void *play_in_loop(void *arg) {
    play *self = (play *)arg;
    mtask_future *other = go(play_other, self->other);
    (void)play_by_hand(self);
    return take(other);
}

/* Plays it; fails the test unless it ends well if it should, and is an error of the proof if not. */
static void run_play(play *self, bool right) {
    mtask_conn_desc desc = with_key("key");
    mtask_status status;
    meeting other;
    desc.md5 = self->md5;
    desc.patience = LONG;
    self->hears_yes = self->sees_proof = false;
    self->other = &other;
    if (self->listens) {
        mtask_address address;
        memset(&other, 0, sizeof other);
        other.connect_for = LONG;
        other.client = &desc;
        ck_assert_status(mtask_tcp_listen(&self->socket, "127.0.0.1:0", NULL), MTASK_OK);
        ck_assert_status(mtask_io_local(self->socket, &address), MTASK_OK);
        (void)mtask_address_text(&address, other.address, sizeof other.address);
    } else {
        open_meeting(&other, BY_TCP, &desc);
        memcpy(self->address, other.address, sizeof self->address);
    }
    (void)in_loop(play_in_loop, self);
    status = self->listens ? other.connected : other.accepted;
    ck_assert_status(status, right ? MTASK_OK : MTASK_AUTH);
    testing_check(!right || (self->hears_yes && self->sees_proof));
    if (self->listens)
        end_fd(self->socket);
    else
        mtask_conn_listener_close(other.listener);
}

/* All plays in which one thing is not as it should be. */
static void run_plays(bool listens, bool md5) {
    play self;
    memset(&self, 0, sizeof self);
    self.listens = listens;
    self.md5 = md5;
    self.answers = answers;
    self.asks = questions;
    self.verdict = verdicts[0];
    for (size_t i = 0; i < COUNT_OF(answers); i++) {
        self.answers = &answers[i];
        run_play(&self, md5 ? answers[i].right_md5 : answers[i].right);
        testing_check(self.hears_yes == (md5 ? answers[i].right_md5 : answers[i].right));
    }
    self.answers = answers;
    for (size_t i = 0; i < COUNT_OF(questions); i++) {
        self.asks = &questions[i];
        run_play(&self, md5 ? questions[i].right_md5 : questions[i].right);
    }
    self.asks = questions;
    for (size_t i = 0; i < COUNT_OF(verdicts); i++) {
        self.verdict = verdicts[i];
        run_play(&self, i == 0);
    }
}

START_TEST(a_listener_takes_the_right_proof_only) {
    int before;
    wait_once();
    before = count_fds();
    run_plays(false, false);
    run_plays(false, true);
    ck_assert_int_eq(count_fds(), before);
}
END_TEST

START_TEST(a_client_takes_the_right_proof_only) {
    int before;
    wait_once();
    before = count_fds();
    run_plays(true, false);
    run_plays(true, true);
    ck_assert_int_eq(count_fds(), before);
}
END_TEST

/* Bytes that are no part of a proof, sent to a listener, or to a client. */
static const struct {
    const char *bytes;
    size_t size;
    bool whole; /* enough to see that by */
} noise[] = {
    {TEXT("GET / HTTP/1.0\r\n\r\n"), true},
    {TEXT("\377\377\377\376"), true},
    {TEXT("\177\377\377\377"), true},
    {TEXT("\0\0\1\1"), true},
    {TEXT("\377\377\377\377\0\0\0\1\0\0\0\0"), true},
    {TEXT("\0\0\0\0"), true},
    {TEXT("\0\0\0\5hello"), true},
    {TEXT("\0\0"), false},
    {TEXT("\0\0\0\50{sha256}and so on"), false},
    {TEXT(""), false},
    {TEXT("\377\377\377\377\0\0"), false},
};

typedef struct noisy {
    size_t index;
    int fd; /* the client's */
    int socket;
    meeting other;
} noisy;

/* Says it, and hangs up if that is not enough; else the other side has to. */
static void *make_noise(void *arg) {
    noisy *self = (noisy *)arg;
    int fd = self->fd;
    char byte;
    if (self->socket >= 0)
        ck_assert_status(mtask_tcp_accept(self->socket, &fd, NULL, LONG), MTASK_OK);
    (void)mtask_io_write(fd, noise[self->index].bytes, noise[self->index].size, NULL, LONG);
    while (noise[self->index].whole && mtask_io_read(fd, &byte, 1, NULL, LONG) == MTASK_OK)
        continue;
    end_fd(fd);
    return arg;
}

static void *hear_noise(void *arg) {
    noisy *self = (noisy *)arg;
    mtask_conn_desc desc = with_key("key"), right = desc;
    mtask_future *other;
    mtask_address address;
    desc.patience = LONG;
    open_meeting(&self->other, BY_TCP, &desc);
    self->socket = -1;
    self->fd = raw_connect(self->other.address);
    other = go(make_noise, self);
    (void)accept_one(&self->other);
    ck_assert_status(self->other.accepted, MTASK_AUTH);
    (void)take(other);
    check_meet(&self->other, &right, IN_THREADS); /* it goes on to work */
    mtask_conn_listener_close(self->other.listener);
    ck_assert_status(mtask_tcp_listen(&self->socket, "127.0.0.1:0", NULL), MTASK_OK);
    ck_assert_status(mtask_io_local(self->socket, &address), MTASK_OK);
    (void)mtask_address_text(&address, self->other.address, sizeof self->other.address);
    other = go(make_noise, self);
    self->other.client = &right;
    (void)connect_one(&self->other);
    ck_assert_status(self->other.connected, MTASK_AUTH);
    (void)take(other);
    end_fd(self->socket);
    return arg;
}

START_TEST(what_is_not_this_protocol_is_turned_away) {
    for (size_t i = 0; i < COUNT_OF(noise); i++) {
        noisy self;
        memset(&self, 0, sizeof self);
        self.index = i;
        (void)in_loop(hear_noise, &self);
    }
}
END_TEST

/* ---- Python at the other end ---- */

#define PYTHON_HEAD                                                                                \
 "import sys\n"                                                                                    \
 "from multiprocessing import AuthenticationError\n"                                               \
 "from multiprocessing.connection import Client, Listener\n"                                       \
 "SIZES = [0, 1, 100, 16384, 16385, 1000000, 0]\n"                                                 \
 "def where(text):\n"                                                                              \
 "    if text.startswith('unix:'):\n"                                                              \
 "        return text[5:]\n"                                                                       \
 "    host, port = text.split(':')\n"                                                              \
 "    return host, int(port)\n"                                                                    \
 "def refused(call, *args, **kwargs):\n"                                                           \
 "    try:\n"                                                                                      \
 "        call(*args, **kwargs)\n"                                                                 \
 "    except (AuthenticationError, EOFError, OSError):\n"                                          \
 "        return\n"                                                                                \
 "    sys.exit('it was let in')\n"

/* Echoes messages until the end, at addresses that it is told, with a right key and a wrong one; to a
   listener that allows HMAC-MD5, and one that does not. */
static const char python_client[] =
    PYTHON_HEAD "for text in sys.argv[1:3]:\n"
                "    with Client(where(text), authkey=b'key') as c:\n"
                "        for size in SIZES:\n"
                "            c.send_bytes(bytes(i % 251 for i in range(size)))\n"
                "            assert c.recv_bytes() == str(size).encode()\n"
                "    refused(Client, where(text), authkey=b'wrong')\n"
                "refused(Client, where(sys.argv[3]), authkey=b'key')\n";

static const char python_listener[] = PYTHON_HEAD
    "for family, address in (('AF_INET', ('127.0.0.1', 0)), ('AF_UNIX', sys.argv[1])):\n"
    "    with Listener(address, family, authkey=b'key') as listener:\n"
    "        address = listener.address\n"
    "        print(address if family == 'AF_UNIX' else address[1], flush=True)\n"
    "        with listener.accept() as c:\n"
    "            for size in SIZES:\n"
    "                c.send_bytes(bytes(i % 251 for i in range(size)))\n"
    "                assert c.recv_bytes() == str(size).encode()\n"
    "        refused(listener.accept)\n"
    "        refused(listener.accept)\n";

/* Runs a script; *out is what it prints. */
static pid_t start_python(const char *script, const char *first, const char *second,
                          const char *third, int *out) {
    const char *const argv[] = {"python3", "-c", script, first, second, third, NULL};
    posix_spawn_file_actions_t actions;
    int ends_of[2];
    pid_t pid = 0;
    plain_pipe(ends_of);
    testing_check(fcntl(ends_of[0], F_SETFD, FD_CLOEXEC) == 0);
    testing_check(posix_spawn_file_actions_init(&actions) == 0);
    testing_check(posix_spawn_file_actions_adddup2(&actions, ends_of[1], 1) == 0);
    testing_check(posix_spawn_file_actions_addclose(&actions, ends_of[1]) == 0);
    testing_check(posix_spawnp(&pid, "python3", &actions, NULL, (char *const *)argv, environ) == 0);
    posix_spawn_file_actions_destroy(&actions);
    close(ends_of[1]);
    *out = ends_of[0];
    return pid;
}

/* Tells how long messages are until the end, each of which has to be as the script makes it. */
static void answer_python(mtask_conn *conn) {
    mtask_buf message = {NULL, 0, 0};
    mtask_status status;
    int count = 0;
    while ((status = mtask_conn_recv(conn, &message, LONG)) == MTASK_OK) {
        char text[32];
        for (size_t i = 0; i < message.size; i++)
            testing_check((unsigned char)message.data[i] == i % 251);
        snprintf(text, sizeof text, "%zu", message.size);
        send_text(conn, text);
        count++;
    }
    ck_assert_status(status, MTASK_CLOSED);
    ck_assert_int_eq(count, 7);
    mtask_buf_free(&message);
}

START_TEST(python_connects_to_a_listener) {
    mtask_conn_desc desc = with_key("key"), strict = desc;
    meeting all[3];
    pid_t pid;
    int out;
    open_folder();
    desc.md5 = true;
    open_meeting(&all[0], BY_TCP, &desc);
    open_meeting(&all[1], BY_PATH, &desc);
    open_meeting(&all[2], BY_TCP, &strict);
    pid = start_python(python_client, all[0].address, all[1].address, all[2].address, &out);
    for (int i = 0; i < 2; i++) {
        (void)accept_one(&all[i]);
        ck_assert_status(all[i].accepted, MTASK_OK);
        answer_python(all[i].here);
        end_conns(&all[i]);
        (void)accept_one(&all[i]);
        ck_assert_status(all[i].accepted, MTASK_AUTH);
    }
    (void)accept_one(&all[2]);
    ck_assert_status(all[2].accepted, MTASK_AUTH);
    reap(pid);
    close(out);
    for (int i = 0; i < 3; i++)
        mtask_conn_listener_close(all[i].listener);
    end_folder();
}
END_TEST

/* Connects as the script expects it. */
static void connect_to_python(const char *address) {
    mtask_conn_desc desc = with_key("key"), strict = desc, wrong = with_key("wrong");
    meeting self;
    memset(&self, 0, sizeof self);
    snprintf(self.address, sizeof self.address, "%.*s", (int)sizeof self.address - 1, address);
    self.connect_for = LONG;
    desc.md5 = wrong.md5 = true;
    self.client = &desc;
    (void)connect_one(&self);
    ck_assert_status(self.connected, MTASK_OK);
    answer_python(self.there);
    end_conns(&self);
    self.client = &wrong;
    (void)connect_one(&self);
    ck_assert_status(self.connected, MTASK_AUTH);
    self.client = &strict;
    (void)connect_one(&self);
    ck_assert_status(self.connected, MTASK_AUTH);
}

START_TEST(python_listens) {
    char line[200], address[220];
    FILE *lines;
    pid_t pid;
    int out;
    open_folder();
    pid = start_python(python_listener, path_of("python"), NULL, NULL, &out);
    lines = fdopen(out, "r");
    testing_check(lines != NULL);
    for (int site = 0; site < SITES; site++) {
        testing_check(fgets(line, sizeof line, lines) != NULL);
        line[strcspn(line, "\n")] = '\0';
        snprintf(address, sizeof address, site == BY_TCP ? "127.0.0.1:%s" : "unix:%s", line);
        connect_to_python(address);
    }
    reap(pid);
    fclose(lines);
    end_folder();
}
END_TEST

/* Before mtask_proc_init, in processes that are spawned, too. */
__attribute__((constructor)) static void fill_pattern(void) {
    make_pattern(pattern, 0, sizeof pattern);
}

TESTING_PROC_MAIN(
    "conn", messages_of_any_size_keep_their_bounds, messages_may_be_huge,
    messages_are_received_into_memory_that_just_holds_them,
    messages_that_wait_are_received_in_order, both_ends_send_at_once,
    a_message_that_does_not_fit_can_still_be_received,
    a_message_that_did_not_fit_outlives_its_sender, receiving_waits_as_long_as_it_is_told,
    a_time_out_in_the_midst_of_a_message_loses_nothing,
    a_small_message_is_sent_at_once_or_not_at_all, a_message_cut_short_tears_no_other_one,
    a_big_message_cut_short_ends_the_sending, what_was_sent_comes_before_the_end,
    the_end_wakes_who_waits_for_a_message,
    an_end_that_closes_with_messages_unread_loses_none_of_its_own,
    who_sends_to_nobody_can_still_receive, sending_to_nobody_is_broken,
    who_waits_for_room_is_told_that_nobody_reads, a_one_way_end_refuses_the_other_way,
    ends_are_close_on_exec, nothing_is_an_end_of_nothing, messages_are_framed_as_python_does,
    a_message_may_come_byte_by_byte, an_end_in_the_midst_of_a_message_is_an_end,
    what_is_no_message_breaks_the_connection, memory_is_taken_as_the_bytes_arrive,
    a_big_message_beyond_the_limit_is_not_received,
    a_message_beyond_the_limit_breaks_the_connection, a_limit_can_be_lifted,
    descriptors_go_along_with_a_message, each_message_has_its_own_descriptors,
    descriptors_that_nobody_takes_are_closed, descriptors_wait_with_a_message_that_did_not_fit,
    too_many_descriptors_or_wrong_ones_are_not_sent, descriptors_without_numbers_are_lost,
    descriptors_go_along_with_a_big_message, descriptors_stay_with_their_message,
    a_flood_of_descriptors_stays_outside, a_message_waits_until_there_is_memory,
    without_memory_there_is_no_connection, several_processes_send_through_one_end,
    several_processes_receive_from_one_end, killed_senders_leave_whole_messages,
    a_sender_killed_in_the_midst_is_an_end, a_receiver_killed_in_the_midst_breaks_the_sending,
    a_forked_child_has_both_ends, a_connection_is_handed_to_another_process,
    one_of_several_connections_is_ready, a_message_that_did_not_fit_is_ready_beside_others,
    connections_and_descriptors_are_waited_for_together, so_many_can_be_waited_for,
    connections_and_processes_are_waited_for_together, a_message_wakes_who_waits_for_several,
    calls_of_a_cancelled_task_lose_nothing,
    a_task_cancelled_in_the_midst_of_a_message_loses_nothing, signals_disturb_nobody,
    any_mixture_of_calls_gets_all_messages, clients_connect_to_a_listener,
    who_knows_the_key_is_let_in, who_has_a_wrong_key_is_not_let_in, who_has_no_key_is_not_let_in,
    a_listener_without_a_key_gives_no_proof, without_a_digest_nobody_is_let_in,
    a_key_needs_a_digest, connections_have_the_limit_of_their_description,
    accepting_waits_as_long_as_it_is_told, a_listener_loses_patience,
    bytes_now_and_then_do_not_prolong_it, a_silent_client_holds_up_one_acceptor,
    meetings_can_be_cancelled, many_clients_and_acceptors_meet,
    the_file_of_a_socket_goes_with_its_listener, a_forked_child_accepts_and_takes_nothing_away,
    a_listener_takes_the_right_proof_only, a_client_takes_the_right_proof_only,
    what_is_not_this_protocol_is_turned_away, python_connects_to_a_listener, python_listens)
