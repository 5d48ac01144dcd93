/* test_mtask_serve.c - servers: a handler in a task for each connection, on one loop or several; how
   they stop; and what clients can do to them */
#define TEST_TIMEOUT 60
#include "testing_io.h"

#include <netinet/tcp.h>
#include <sys/resource.h>
#include <sys/stat.h>

/* Longer than any test takes: what ends such a wait is not the time. */
#define LONG MTASK_SEC(100000)

#define COUNT_OF(array) ((long)(sizeof(array) / sizeof(array)[0]))

/* ---- a server, and what its handlers and the test tell each other ---- */

typedef struct house {
    unsigned loops; /* as the server's description says */
    mtask_server *server;
    char at[MTASK_ADDRESS_TEXT]; /* where it listens */
    mtask_word inside;           /* handlers that run now */
    mtask_word most;             /* at once, so far */
    mtask_word left;             /* handlers that have returned */
    mtask_word canceled;         /* those of them whose wait was cancelled */
    mtask_word told;             /* what a handler has been told of, as it says */
    mtask_event gate;            /* for which some wait */
    int64_t pause;               /* which some make */
    mtask_loop *loop;            /* of the last one */
    int tids[8];                 /* of the threads they ran in */
} house;

static void enter(house *self) {
    mtask_word inside = mtask_word_add(&self->inside, 1) + 1, most = mtask_word_load(&self->most);
    while (inside > most && !mtask_word_cas(&self->most, &most, inside)) {
    }
    __atomic_store_n(&self->loop, mtask_loop_current(), __ATOMIC_SEQ_CST);
}

static void leave(house *self) {
    (void)mtask_word_add(&self->inside, (mtask_word)-1);
    (void)mtask_word_add(&self->left, 1);
}

static mtask_server_stats stats_of(const house *self) {
    return mtask_server_get_stats(self->server);
}

/* Returns when so many connections are there. */
static void await_connections(const house *self, size_t count) {
    while (stats_of(self).connections != count)
        linger();
}

/* Starts a server on the address. */
static void open_house_at(house *self, const char *address, mtask_handler *handler,
                          const mtask_serve_desc *more) {
    mtask_serve_desc desc = *more;
    mtask_address at;
    desc.ctx = self;
    desc.loops = self->loops;
    self->server = NULL;
    ck_assert_status(mtask_server_start(&self->server, address, handler, &desc), MTASK_OK);
    testing_check(self->server != NULL);
    ck_assert_status(mtask_server_address(self->server, &at), MTASK_OK);
    (void)mtask_address_text(&at, self->at, sizeof self->at);
}

static void open_house(house *self, mtask_handler *handler, mtask_serve_desc more) {
    open_house_at(self, "127.0.0.1:0", handler, &more);
}

static void end_house(house *self) {
    ck_assert_status(mtask_server_destroy(self->server), MTASK_OK);
    self->server = NULL;
    ck_assert_uint_eq(mtask_word_load(&self->inside), 0);
}

static int count_threads(void) {
    DIR *dir = opendir("/proc/self/task");
    int count = 0;
    testing_check(dir != NULL);
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;)
        count += entry->d_name[0] != '.';
    closedir(dir);
    return count;
}

static void *do_nothing(void *arg) {
    return arg;
}

static void *run_on_own_loop(void *arg) {
    mtask_fn fn = *(mtask_fn *)arg;
    house self;
    memset(&self, 0, sizeof self);
    (void)fn(&self);
    ck_assert_uint_eq(mtask_loop_pending(mtask_loop_current()), 1);
    memset(&self, 0, sizeof self);
    self.loops = 2;
    (void)fn(&self);
    ck_assert_uint_eq(mtask_loop_pending(mtask_loop_current()), 1);
    return arg;
}

/* Runs fn(house) for each kind of server: on the loop of the task that starts it, and on loops of its
   own, started by a task and by a thread. Nothing may be left afterwards. */
static void for_each_kind(mtask_fn fn) {
    int fds, threads;
    house self;
    wait_once();
    (void)in_thread(do_nothing, NULL); /* with which a sanitizer starts one of its own */
    fds = count_fds();
    threads = count_threads();
    (void)in_loop(run_on_own_loop, &fn);
    for (unsigned loops = 0; loops <= 3; loops += 3) {
        memset(&self, 0, sizeof self);
        self.loops = loops;
        (void)fn(&self);
    }
    ck_assert_int_eq(count_fds(), fds);
    while (count_threads() > threads) /* the system takes a moment to forget them */
        testing_pause(1);
}

/* ---- clients ---- */

static mtask_stream *connect_to(const house *self) {
    mtask_stream *stream = NULL;
    ck_assert_status(mtask_stream_connect(&stream, self->at, NULL, LONG), MTASK_OK);
    return stream;
}

static void say(mtask_stream *stream, const char *text) {
    ck_assert_status(mtask_stream_printf(stream, LONG, "%s\n", text), MTASK_OK);
    ck_assert_status(mtask_stream_drain(stream, LONG), MTASK_OK);
}

static void hear(mtask_stream *stream, const char *expected) {
    char *line = NULL;
    ck_assert_status(mtask_stream_read_line(stream, &line, NULL, LONG), MTASK_OK);
    ck_assert_str_eq(line, expected);
}

/* Fails the test unless the other side has closed the connection. */
static void hear_the_end(mtask_stream *stream) {
    char byte;
    ck_assert_status(mtask_stream_read(stream, &byte, 1, NULL, LONG), MTASK_CLOSED);
}

static void end_stream(mtask_stream *stream) {
    ck_assert_status(mtask_stream_close(stream, LONG), MTASK_OK);
    mtask_stream_destroy(stream);
}

/* Returns when the other side is gone, in whatever way. */
static void await_end(mtask_stream *stream) {
    char bytes[4096];
    mtask_status status;
    do
        status = mtask_stream_read(stream, bytes, sizeof bytes, NULL, LONG);
    while (status == MTASK_OK);
    testing_check(status == MTASK_CLOSED || status == MTASK_BROKEN);
}

/* One conversation with a server that echoes lines. */
static void *converse(void *arg) {
    house *self = (house *)arg;
    mtask_stream *stream = connect_to(self);
    for (int i = 0; i < 3; i++) {
        char text[32];
        snprintf(text, sizeof text, "line %d", i);
        say(stream, text);
        hear(stream, text);
    }
    end_stream(stream);
    return arg;
}

/* Several at once, as tasks. */
typedef struct guests {
    house *host;
    mtask_fn fn;
    int count;
} guests;

static void *be_guests(void *arg) {
    guests *self = (guests *)arg;
    mtask_future *futures[64];
    testing_check(self->count <= COUNT_OF(futures));
    for (int i = 0; i < self->count; i++)
        futures[i] = go(self->fn, self->host);
    for (int i = 0; i < self->count; i++)
        (void)take(futures[i]);
    return arg;
}

/* Runs so many clients at once, and waits until all have returned. */
static void invite(house *host, int count, mtask_fn fn) {
    guests all = {host, fn, count};
    if (mtask_loop_current() != NULL)
        (void)be_guests(&all);
    else
        (void)in_loop(be_guests, &all);
}

/* ---- handlers ---- */

static void echo_lines(mtask_stream *stream, void *ctx) {
    house *self = (house *)ctx;
    char *line;
    enter(self);
    while (mtask_stream_read_line(stream, &line, NULL, LONG) == MTASK_OK)
        if (mtask_stream_printf(stream, LONG, "%s\n", line) != MTASK_OK)
            break;
    leave(self);
}

/* Waits for nothing but its cancellation. */
static void sleep_long(mtask_stream *stream, void *ctx) {
    house *self = (house *)ctx;
    (void)stream;
    enter(self);
    if (mtask_sleep(LONG) == MTASK_CANCELED)
        (void)mtask_word_add(&self->canceled, 1);
    leave(self);
}

/* Waits for the gate. */
static void wait_at_gate(mtask_stream *stream, void *ctx) {
    house *self = (house *)ctx;
    enter(self);
    if (mtask_event_wait(&self->gate, LONG) == MTASK_CANCELED)
        (void)mtask_word_add(&self->canceled, 1);
    else
        ck_assert_status(mtask_stream_printf(stream, LONG, "through\n"), MTASK_OK);
    leave(self);
}

/* As a server of requests does: waits for the next one in mtask_stream_idle. */
static void answer_requests(mtask_stream *stream, void *ctx) {
    house *self = (house *)ctx;
    mtask_status status;
    char *line;
    enter(self);
    while ((status = mtask_stream_idle(stream, LONG)) == MTASK_OK) {
        ck_assert_status(mtask_stream_read_line(stream, &line, NULL, LONG), MTASK_OK);
        (void)mtask_word_add(&self->told, 1);
        if (self->pause > 0)
            (void)mtask_sleep(self->pause);
        ck_assert_status(mtask_stream_printf(stream, LONG, "%s\n", line), MTASK_OK);
    }
    ck_assert_status(status, MTASK_CLOSED);
    leave(self);
}

/* ---- start, serve, stop ---- */

static void *start_and_stop(void *arg) {
    house *self = (house *)arg;
    mtask_server_stats stats;
    open_house(self, echo_lines, (mtask_serve_desc){0});
    ck_assert_int_eq(strncmp(self->at, "127.0.0.1:", 10), 0);
    ck_assert_int_gt(atoi(self->at + 10), 0);
    ck_assert(!mtask_server_is_stopping(self->server));
    stats = stats_of(self);
    ck_assert_uint_eq(stats.accepted + stats.connections + stats.stalls, 0);
    ck_assert_status(mtask_server_join(self->server, MTASK_MS(1)), MTASK_TIMEOUT);
    ck_assert_status(mtask_server_join(self->server, -1), MTASK_INVALID);
    mtask_server_stop(self->server);
    ck_assert(mtask_server_is_stopping(self->server));
    mtask_server_stop(self->server);
    ck_assert_status(mtask_server_join(self->server, LONG), MTASK_OK);
    ck_assert_status(mtask_server_join(self->server, MTASK_NOWAIT), MTASK_OK);
    end_house(self);
    open_house(self, echo_lines, (mtask_serve_desc){0});
    end_house(self); /* without a word of warning */
    ck_assert_status(mtask_server_destroy(NULL), MTASK_OK);
    return arg;
}

START_TEST(a_server_starts_and_stops) {
    for_each_kind(start_and_stop);
}
END_TEST

static void *serve_one_and_many(void *arg) {
    house *self = (house *)arg;
    mtask_server_stats stats;
    open_house(self, echo_lines, (mtask_serve_desc){0});
    (void)converse(self);
    (void)converse(self);
    await_connections(self, 0);
    ck_assert_uint_eq(mtask_word_load(&self->left), 2);
    invite(self, 30, converse);
    await_connections(self, 0);
    stats = stats_of(self);
    ck_assert_uint_eq(stats.accepted, 32);
    ck_assert_uint_eq(stats.stalls, 0);
    ck_assert_uint_eq(mtask_word_load(&self->left), 32);
    if (self->loops == 0 && mtask_loop_current() != NULL)
        ck_assert_ptr_eq(self->loop, mtask_loop_current());
    else
        ck_assert_ptr_ne(self->loop, mtask_loop_current());
    end_house(self);
    return arg;
}

START_TEST(clients_are_served_one_by_one_and_together) {
    for_each_kind(serve_one_and_many);
}
END_TEST

static void note_thread(mtask_stream *stream, void *ctx) {
    house *self = (house *)ctx;
    int tid = own_tid();
    for (int i = 0; i < 8; i++) {
        int none = 0;
        if (__atomic_compare_exchange_n(&self->tids[i], &none, tid, false, __ATOMIC_SEQ_CST,
                                        __ATOMIC_SEQ_CST) ||
            none == tid)
            break;
    }
    echo_lines(stream, ctx);
}

START_TEST(several_loops_share_the_connections) {
    house self;
    int threads = 0;
    memset(&self, 0, sizeof self);
    self.loops = 4;
    open_house(&self, note_thread, (mtask_serve_desc){0});
    for (int i = 0; i < 4; i++)
        invite(&self, 25, converse);
    end_house(&self);
    for (int i = 0; i < 8; i++) {
        threads += self.tids[i] != 0;
        ck_assert_int_ne(self.tids[i], own_tid());
    }
    ck_assert_int_gt(threads, 1);
    ck_assert_int_le(threads, 4);
}
END_TEST

START_TEST(a_loop_for_each_cpu_serves) {
    house self;
    memset(&self, 0, sizeof self);
    self.loops = MTASK_LOOP_PER_CPU;
    open_house(&self, echo_lines, (mtask_serve_desc){0});
    invite(&self, 10, converse);
    end_house(&self);
}
END_TEST

/* Looks at what it is given. */
static void look_around(mtask_stream *stream, void *ctx) {
    house *self = (house *)ctx;
    mtask_address local, peer;
    char text[MTASK_ADDRESS_TEXT];
    int fd = mtask_stream_fd(stream), value = 0;
    socklen_t size = sizeof value;
    enter(self);
    testing_check(fd >= 0 && !is_blocking(fd) && (fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
    testing_check(getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &value, &size) == 0 && value != 0);
    ck_assert_status(mtask_io_local(fd, &local), MTASK_OK);
    ck_assert_str_eq(mtask_address_text(&local, text, sizeof text), self->at);
    ck_assert_status(mtask_io_peer(fd, &peer), MTASK_OK);
    ck_assert_status(mtask_stream_printf(stream, LONG, "%u\n", mtask_address_port(&peer)),
                     MTASK_OK);
    testing_check(mtask_coro_stack_left() > 10000);
    leave(self);
}

static void *be_looked_at(void *arg) {
    house *self = (house *)arg;
    mtask_stream *stream;
    mtask_address local;
    char port[16];
    open_house(self, look_around, (mtask_serve_desc){.stack_size = 65536});
    stream = connect_to(self);
    ck_assert_status(mtask_io_local(mtask_stream_fd(stream), &local), MTASK_OK);
    snprintf(port, sizeof port, "%u", mtask_address_port(&local));
    hear(stream, port);
    hear_the_end(stream);
    end_stream(stream);
    end_house(self);
    return arg;
}

START_TEST(a_handler_finds_all_it_needs) {
    for_each_kind(be_looked_at);
}
END_TEST

/* The ways in which a handler may end, one after the other. */
static void end_somehow(mtask_stream *stream, void *ctx) {
    house *self = (house *)ctx;
    mtask_word way = mtask_word_load(&self->left);
    char byte;
    enter(self);
    ck_assert_status(mtask_stream_read(stream, &byte, 1, NULL, LONG), MTASK_OK);
    ck_assert_status(mtask_stream_printf(stream, LONG, "%u\n", (unsigned)way), MTASK_OK);
    if (way == 1)
        ck_assert_status(mtask_stream_close(stream, LONG), MTASK_OK);
    else if (way == 2)
        ck_assert_status(mtask_stream_shutdown(stream, LONG), MTASK_OK);
    else if (way == 3)
        mtask_stream_abort(stream);
    else if (way == 4)
        (void)mtask_fail(MTASK_FULL, "for nobody");
    leave(self);
}

static void *end_in_many_ways(void *arg) {
    house *self = (house *)arg;
    open_house(self, end_somehow, (mtask_serve_desc){0});
    for (mtask_word way = 0; way < 6; way++) {
        mtask_stream *stream = connect_to(self);
        char text[8];
        snprintf(text, sizeof text, "%u", (unsigned)way);
        ck_assert_status(mtask_stream_write(stream, "?", 1, LONG), MTASK_OK);
        ck_assert_status(mtask_stream_drain(stream, LONG), MTASK_OK);
        if (way != 3) {
            hear(stream, text);
            hear_the_end(stream);
        }
        await_end(stream);
        end_stream(stream);
        await_connections(self, 0);
    }
    end_house(self);
    return arg;
}

START_TEST(a_handler_may_end_in_any_way) {
    for_each_kind(end_in_many_ways);
}
END_TEST

/* The server that its handler connects to. */
static void pass_on(mtask_stream *stream, void *ctx) {
    house *self = (house *)ctx, *next = (house *)(void *)self->tids;
    char *line;
    memcpy(&next, self->tids, sizeof next);
    enter(self);
    while (mtask_stream_read_line(stream, &line, NULL, LONG) == MTASK_OK) {
        mtask_stream *there = connect_to(next);
        say(there, line);
        hear(there, line);
        end_stream(there);
        ck_assert_status(mtask_stream_printf(stream, LONG, "%s\n", line), MTASK_OK);
    }
    leave(self);
}

static void *serve_by_another_server(void *arg) {
    house *self = (house *)arg, back, *link = &back;
    memset(&back, 0, sizeof back);
    back.loops = self->loops;
    memcpy(self->tids, &link, sizeof link);
    open_house(&back, echo_lines, (mtask_serve_desc){0});
    open_house(self, pass_on, (mtask_serve_desc){0});
    invite(self, 5, converse);
    end_house(self);
    end_house(&back);
    ck_assert_uint_eq(mtask_word_load(&back.left), 15);
    return arg;
}

START_TEST(a_handler_may_be_a_client) {
    for_each_kind(serve_by_another_server);
}
END_TEST

/* ---- a limit of connections ---- */

static void *serve_three_at_a_time(void *arg) {
    house *self = (house *)arg;
    open_house(self, echo_lines, (mtask_serve_desc){.max_connections = 3});
    invite(self, 20, converse);
    await_connections(self, 0);
    ck_assert_uint_eq(mtask_word_load(&self->left), 20);
    ck_assert_uint_le(mtask_word_load(&self->most), 3);
    ck_assert_uint_eq(stats_of(self).accepted, 20);
    end_house(self);
    return arg;
}

START_TEST(no_more_connections_are_accepted_than_allowed) {
    for_each_kind(serve_three_at_a_time);
}
END_TEST

static void *fill_to_the_limit(void *arg) {
    house *self = (house *)arg;
    mtask_stream *streams[4];
    open_house(self, wait_at_gate, (mtask_serve_desc){.max_connections = 2});
    for (int i = 0; i < 4; i++)
        streams[i] = connect_to(self);
    await_value(&self->inside, 2);
    ck_assert_status(mtask_sleep(MTASK_MS(3)), MTASK_OK);
    ck_assert_uint_eq(stats_of(self).connections, 2);
    ck_assert_uint_eq(mtask_word_load(&self->most), 2);
    mtask_event_set(&self->gate);
    for (int i = 0; i < 4; i++) {
        hear(streams[i], "through");
        end_stream(streams[i]);
    }
    ck_assert_uint_le(mtask_word_load(&self->most), 2);
    end_house(self);
    return arg;
}

START_TEST(who_is_beyond_the_limit_waits_to_be_accepted) {
    for_each_kind(fill_to_the_limit);
}
END_TEST

static void *stop_at_the_limit(void *arg) {
    house *self = (house *)arg;
    mtask_stream *streams[3];
    open_house(self, sleep_long, (mtask_serve_desc){.max_connections = 1, .grace = -1});
    for (int i = 0; i < 3; i++)
        streams[i] = connect_to(self);
    await_value(&self->inside, 1);
    end_house(self);
    ck_assert_uint_eq(mtask_word_load(&self->most), 1);
    for (int i = 0; i < 3; i++) {
        await_end(streams[i]);
        mtask_stream_destroy(streams[i]);
    }
    return arg;
}

START_TEST(a_server_at_its_limit_stops) {
    for_each_kind(stop_at_the_limit);
}
END_TEST

/* ---- graceful stop ---- */

static void *stop_idle(void *arg) {
    house *self = (house *)arg;
    mtask_stream *streams[5];
    open_house(self, answer_requests, (mtask_serve_desc){.grace = LONG});
    for (int i = 0; i < 5; i++) {
        streams[i] = connect_to(self);
        say(streams[i], "hello");
        hear(streams[i], "hello");
    }
    mtask_server_stop(self->server);
    for (int i = 0; i < 5; i++) {
        hear_the_end(streams[i]);
        end_stream(streams[i]);
    }
    ck_assert_status(mtask_server_join(self->server, LONG), MTASK_OK);
    ck_assert_uint_eq(mtask_word_load(&self->left), 5);
    end_house(self);
    return arg;
}

START_TEST(handlers_between_two_requests_end_when_the_server_stops) {
    for_each_kind(stop_idle);
}
END_TEST

static void *stop_busy(void *arg) {
    house *self = (house *)arg;
    mtask_stream *streams[3];
    self->pause = MTASK_MS(3);
    open_house(self, answer_requests, (mtask_serve_desc){.grace = LONG});
    for (int i = 0; i < 3; i++) {
        streams[i] = connect_to(self);
        say(streams[i], "hello");
    }
    await_value(&self->told, 3);
    mtask_server_stop(self->server);
    for (int i = 0; i < 3; i++) { /* what was asked before is answered still */
        hear(streams[i], "hello");
        hear_the_end(streams[i]);
        end_stream(streams[i]);
    }
    end_house(self);
    return arg;
}

START_TEST(handlers_in_the_midst_of_a_request_go_on) {
    for_each_kind(stop_busy);
}
END_TEST

static void *wait_for_the_last(void *arg) {
    house *self = (house *)arg;
    mtask_stream *streams[2];
    open_house(self, wait_at_gate, (mtask_serve_desc){.grace = LONG});
    for (int i = 0; i < 2; i++)
        streams[i] = connect_to(self);
    await_value(&self->inside, 2);
    mtask_server_stop(self->server);
    ck_assert_status(mtask_server_join(self->server, MTASK_NOWAIT), MTASK_TIMEOUT);
    ck_assert_status(mtask_server_join(self->server, MTASK_MS(3)), MTASK_TIMEOUT);
    ck_assert_uint_eq(mtask_word_load(&self->inside), 2);
    mtask_event_set(&self->gate);
    ck_assert_status(mtask_server_join(self->server, LONG), MTASK_OK);
    ck_assert_uint_eq(mtask_word_load(&self->inside), 0);
    ck_assert_uint_eq(mtask_word_load(&self->canceled), 0);
    for (int i = 0; i < 2; i++) {
        hear(streams[i], "through");
        end_stream(streams[i]);
    }
    end_house(self);
    return arg;
}

START_TEST(a_server_has_stopped_when_its_last_handler_returns) {
    for_each_kind(wait_for_the_last);
}
END_TEST

static void *stop_with_grace(void *arg) {
    house *self = (house *)arg;
    static const int64_t graces[] = {-1, 1, MTASK_MS(3)};
    for (long i = 0; i < COUNT_OF(graces); i++) {
        mtask_stream *stream;
        int64_t start;
        mtask_word_store(&self->canceled, 0);
        open_house(self, sleep_long, (mtask_serve_desc){.grace = graces[i]});
        stream = connect_to(self);
        await_value(&self->inside, 1);
        start = mtask_now();
        mtask_server_stop(self->server);
        ck_assert_status(mtask_server_join(self->server, LONG), MTASK_OK);
        testing_check(mtask_now() - start >= graces[i]);
        ck_assert_uint_eq(mtask_word_load(&self->canceled), 1);
        hear_the_end(stream);
        end_stream(stream);
        end_house(self);
    }
    return arg;
}

START_TEST(handlers_are_cancelled_when_the_grace_has_passed) {
    for_each_kind(stop_with_grace);
}
END_TEST

static void *destroy_at_once(void *arg) {
    house *self = (house *)arg;
    mtask_stream *streams[5];
    open_house(self, sleep_long, (mtask_serve_desc){.grace = -1});
    for (int i = 0; i < 5; i++)
        streams[i] = connect_to(self);
    await_value(&self->inside, 3); /* and some have perhaps not begun */
    end_house(self);
    ck_assert_uint_eq(mtask_word_load(&self->canceled), mtask_word_load(&self->left));
    for (int i = 0; i < 5; i++) {
        await_end(streams[i]);
        mtask_stream_destroy(streams[i]);
    }
    return arg;
}

START_TEST(destroying_a_server_stops_it) {
    for_each_kind(destroy_at_once);
}
END_TEST

/* Ends only when it is told a second time: by a wait that is no longer held off. */
static void clean_up_slowly(mtask_stream *stream, void *ctx) {
    house *self = (house *)ctx;
    enter(self);
    ck_assert_status(mtask_sleep(LONG), MTASK_CANCELED);
    mtask_shield_begin();
    ck_assert_status(mtask_sleep(MTASK_MS(3)), MTASK_OK);
    ck_assert_status(mtask_stream_printf(stream, LONG, "goodbye\n"), MTASK_OK);
    mtask_shield_end();
    (void)mtask_word_add(&self->canceled, 1);
    leave(self);
}

static void *let_clean_up(void *arg) {
    house *self = (house *)arg;
    mtask_stream *stream;
    open_house(self, clean_up_slowly, (mtask_serve_desc){.grace = -1});
    stream = connect_to(self);
    await_value(&self->inside, 1);
    end_house(self);
    ck_assert_uint_eq(mtask_word_load(&self->canceled), 1);
    hear(stream, "goodbye");
    hear_the_end(stream);
    end_stream(stream);
    return arg;
}

START_TEST(what_a_cancelled_handler_leaves_in_the_stream_is_sent) {
    for_each_kind(let_clean_up);
}
END_TEST

static void *try_when_stopped(void *arg) {
    house *self = (house *)arg;
    mtask_stream *stream = NULL;
    open_house(self, echo_lines, (mtask_serve_desc){0});
    (void)converse(self);
    mtask_server_stop(self->server);
    ck_assert_status(mtask_server_join(self->server, LONG), MTASK_OK);
    errno = 0;
    ck_assert_status(mtask_stream_connect(&stream, self->at, NULL, LONG), MTASK_SYSTEM);
    ck_assert_int_eq(errno, ECONNREFUSED);
    ck_assert_uint_eq(stats_of(self).accepted, 1); /* that can still be asked for */
    end_house(self);
    return arg;
}

START_TEST(a_server_that_has_stopped_refuses) {
    for_each_kind(try_when_stopped);
}
END_TEST

/* What a handler must not do is refused, and what it may do is done. */
static void stop_from_within(mtask_stream *stream, void *ctx) {
    house *self = (house *)ctx;
    enter(self);
    ck_assert_status(mtask_server_join(self->server, LONG), MTASK_DEADLOCK);
    ck_assert_status(mtask_server_join(self->server, MTASK_FOREVER), MTASK_DEADLOCK);
    ck_assert_status(mtask_server_destroy(self->server), MTASK_DEADLOCK);
    ck_assert(!mtask_server_is_stopping(self->server));
    mtask_server_stop(self->server);
    ck_assert(mtask_server_is_stopping(self->server));
    ck_assert_status(mtask_stream_idle(stream, LONG), MTASK_CLOSED);
    ck_assert_status(mtask_stream_printf(stream, LONG, "stopped\n"), MTASK_OK);
    leave(self);
}

static void *be_stopped_by_a_handler(void *arg) {
    house *self = (house *)arg;
    mtask_stream *stream;
    open_house(self, stop_from_within, (mtask_serve_desc){.grace = LONG});
    stream = connect_to(self);
    ck_assert_status(mtask_server_join(self->server, LONG), MTASK_OK);
    hear(stream, "stopped");
    hear_the_end(stream);
    end_stream(stream);
    end_house(self);
    return arg;
}

START_TEST(a_handler_stops_its_server_but_does_not_wait_for_that) {
    for_each_kind(be_stopped_by_a_handler);
}
END_TEST

static void *join_it(void *arg) {
    ck_assert_status(mtask_server_join(((house *)arg)->server, LONG), MTASK_OK);
    return arg;
}

static void *join_until_cancelled(void *arg) {
    ck_assert_status(mtask_server_join(((house *)arg)->server, LONG), MTASK_CANCELED);
    return arg;
}

static void *join_together(void *arg) {
    house *self = (house *)arg;
    mtask_future *futures[3], *canceled = go(join_until_cancelled, self);
    for (int i = 0; i < 3; i++)
        futures[i] = go(join_it, self);
    take_turns();
    ck_assert_status(mtask_future_cancel(canceled), MTASK_OK);
    (void)take(canceled);
    mtask_server_stop(self->server);
    for (int i = 0; i < 3; i++)
        (void)take(futures[i]);
    return arg;
}

static void *be_joined(void *arg) {
    house *self = (house *)arg;
    pthread_t thread;
    open_house(self, echo_lines, (mtask_serve_desc){0});
    testing_check(pthread_create(&thread, NULL, join_it, self) == 0);
    if (mtask_loop_current() != NULL)
        (void)join_together(self);
    else
        (void)in_loop(join_together, self);
    testing_check(pthread_join(thread, NULL) == 0);
    end_house(self);
    return arg;
}

START_TEST(many_wait_for_a_server_to_stop) {
    for_each_kind(be_joined);
}
END_TEST

static void *leave_a_server_behind(void *arg) {
    house *self = (house *)arg;
    mtask_stream *stream;
    open_house(self, sleep_long, (mtask_serve_desc){.grace = LONG});
    stream = connect_to(self);
    await_value(&self->inside, 1);
    mtask_stream_destroy(stream);
    return arg;
}

START_TEST(a_server_ends_with_the_loop_on_which_it_serves) {
    house self;
    int fds;
    wait_once();
    fds = count_fds();
    memset(&self, 0, sizeof self);
    (void)in_loop(leave_a_server_behind, &self);
    ck_assert_uint_eq(mtask_word_load(&self.canceled), 1);
    ck_assert(mtask_server_is_stopping(self.server));
    ck_assert_status(mtask_server_join(self.server, MTASK_NOWAIT), MTASK_OK);
    end_house(&self);
    ck_assert_int_eq(count_fds(), fds);
}
END_TEST

static void *open_many_houses(void *arg) {
    house many[5];
    for (int i = 0; i < 5; i++) {
        memset(&many[i], 0, sizeof many[i]);
        many[i].loops = ((house *)arg)->loops;
        open_house(&many[i], echo_lines, (mtask_serve_desc){0});
    }
    for (int i = 0; i < 5; i++)
        invite(&many[i], 3, converse);
    for (int i = 0; i < 5; i++)
        end_house(&many[i * 3 % 5]);
    return arg;
}

START_TEST(many_servers_live_side_by_side) {
    for_each_kind(open_many_houses);
}
END_TEST

/* ---- what is left to send ---- */

#define MUCH 500000 /* bytes, more than the system holds of what such a handler sends */

/* Has the system hold little of what is sent, and not ever more. */
static void be_narrow(const mtask_stream *stream) {
    int size = 32768;
    testing_check(setsockopt(mtask_stream_fd(stream), SOL_SOCKET, SO_SNDBUF, &size, sizeof size) ==
                  0);
}

/* Leaves a full buffer behind. */
static void leave_much(mtask_stream *stream, void *ctx) {
    house *self = (house *)ctx;
    char *bytes = malloc(MUCH);
    mtask_status status;
    testing_check(bytes != NULL);
    make_pattern(bytes, 0, MUCH);
    enter(self);
    be_narrow(stream);
    status = mtask_stream_write(stream, bytes, MUCH, self->pause);
    if (status != MTASK_OK)
        (void)mtask_word_add(&self->told, 1);
    free(bytes);
    leave(self);
}

static void read_much(mtask_stream *stream) {
    char bytes[16384];
    size_t got = 0, count;
    mtask_status status;
    while ((status = mtask_stream_read(stream, bytes, sizeof bytes, &count, LONG)) == MTASK_OK) {
        check_pattern(bytes, got, count);
        got += count;
    }
    ck_assert_status(status, MTASK_CLOSED);
    ck_assert_uint_eq(got, MUCH);
}

static void *take_much(void *arg) {
    house *self = (house *)arg;
    mtask_stream *stream;
    self->pause = LONG;
    open_house(self, leave_much, (mtask_serve_desc){0});
    stream = connect_to(self);
    read_much(stream);
    end_stream(stream);
    end_house(self);
    ck_assert_uint_eq(mtask_word_load(&self->told), 0);
    return arg;
}

START_TEST(all_that_a_handler_wrote_arrives) {
    for_each_kind(take_much);
}
END_TEST

static void *take_nothing(void *arg) {
    house *self = (house *)arg;
    mtask_stream *stream;
    self->pause = MTASK_MS(3);
    open_house(self, leave_much, (mtask_serve_desc){.close_timeout = MTASK_MS(1)});
    stream = connect_to(self); /* and reads nothing */
    await_value(&self->left, 1);
    await_connections(self, 0);
    ck_assert_uint_eq(mtask_word_load(&self->told), 1);
    (void)await_end(stream);
    mtask_stream_destroy(stream);
    end_house(self);
    return arg;
}

START_TEST(who_does_not_read_is_given_up) {
    for_each_kind(take_nothing);
}
END_TEST

/* ---- where a server listens ---- */

static mtask_status fail_to_start(const house *self, const char *address,
                                  const mtask_serve_desc *more) {
    mtask_serve_desc desc = *more;
    mtask_server *server = NULL;
    mtask_status status;
    desc.loops = self->loops;
    errno = 0;
    status = mtask_server_start(&server, address, echo_lines, &desc);
    testing_check(status != MTASK_OK);
    return status;
}

static void *collide(void *arg) {
    house *self = (house *)arg;
    mtask_serve_desc desc = {0};
    mtask_server *server;
    open_house(self, echo_lines, desc);
    ck_assert_status(fail_to_start(self, self->at, &desc), MTASK_SYSTEM);
    ck_assert_int_eq(errno, EADDRINUSE);
    (void)converse(self);
    end_house(self);
    ck_assert_status(fail_to_start(self, "nonsense", &desc), MTASK_INVALID);
    ck_assert_status(fail_to_start(self, "unix:/nowhere/at/all", &desc), MTASK_SYSTEM);
    ck_assert_int_eq(errno, ENOENT);
    ck_assert_status(mtask_server_start(&server, "127.0.0.1:0", NULL, NULL), MTASK_INVALID);
    return arg;
}

START_TEST(a_server_that_cannot_listen_does_not_start) {
    for_each_kind(collide);
}
END_TEST

static void *share_a_port(void *arg) {
    house *self = (house *)arg, other;
    mtask_serve_desc desc = {.listen = {.share_port = true}};
    memset(&other, 0, sizeof other);
    other.loops = self->loops;
    open_house(self, echo_lines, desc);
    open_house_at(&other, self->at, echo_lines, &desc);
    ck_assert_str_eq(self->at, other.at);
    for (int i = 0; i < 40; i++)
        (void)converse(self);
    end_house(self);
    (void)converse(&other); /* now all come here */
    end_house(&other);
    ck_assert_uint_eq(mtask_word_load(&self->left) + mtask_word_load(&other.left), 41);
    ck_assert_uint_gt(mtask_word_load(&self->left), 0);
    ck_assert_uint_gt(mtask_word_load(&other.left), 1);
    return arg;
}

START_TEST(two_servers_may_share_a_port) {
    for_each_kind(share_a_port);
}
END_TEST

static void *come_back(void *arg) {
    house *self = (house *)arg;
    mtask_serve_desc desc = {0};
    open_house(self, echo_lines, desc);
    for (int i = 0; i < 3; i++) {
        char at[MTASK_ADDRESS_TEXT];
        (void)converse(self);
        snprintf(at, sizeof at, "%s", self->at);
        end_house(self);
        open_house_at(self, at, echo_lines, &desc);
        ck_assert_str_eq(at, self->at);
    }
    (void)converse(self);
    end_house(self);
    return arg;
}

START_TEST(a_server_can_be_started_again_at_once) {
    for_each_kind(come_back);
}
END_TEST

/* The address of a Unix socket in a folder of the test's own. */
static void unix_at(char text[MTASK_ADDRESS_TEXT]) {
    snprintf(text, MTASK_ADDRESS_TEXT, "unix:%s/s", folder);
}

static bool is_there(const char *path) {
    struct stat info;
    return lstat(path, &info) == 0;
}

static void *serve_at_a_path(void *arg) {
    house *self = (house *)arg;
    mtask_serve_desc desc = {0};
    char at[MTASK_ADDRESS_TEXT];
    unix_at(at);
    for (int i = 0; i < 2; i++) {
        open_house_at(self, at, echo_lines, &desc);
        ck_assert_str_eq(self->at, at);
        testing_check(is_there(at + 5));
        invite(self, 10, converse);
        ck_assert_status(fail_to_start(self, at, &desc), MTASK_SYSTEM);
        ck_assert_int_eq(errno, EADDRINUSE);
        (void)converse(self);
        end_house(self);
        testing_check(!is_there(at + 5));
    }
    return arg;
}

START_TEST(the_file_of_a_unix_socket_lasts_as_long_as_its_server) {
    open_folder();
    for_each_kind(serve_at_a_path);
    ck_assert_int_eq(count_files(false), 0);
    end_folder();
}
END_TEST

/* A server that has stopped, but is still there, must not remove the file of the next one. */
static void replace_server(house *self, const char *at) {
    house next;
    mtask_serve_desc desc = {0};
    memset(&next, 0, sizeof next);
    next.loops = self->loops;
    open_house_at(self, at, echo_lines, &desc);
    mtask_server_stop(self->server);
    ck_assert_status(mtask_server_join(self->server, LONG), MTASK_OK);
    open_house_at(&next, at, echo_lines, &desc);
    end_house(self);
    (void)converse(&next);
    end_house(&next);
    testing_check(!is_there(at + 5));
}

static void *lose_the_path(void *arg) {
    house *self = (house *)arg;
    mtask_serve_desc desc = {0};
    char at[MTASK_ADDRESS_TEXT];
    int fd;
    unix_at(at);
    open_house_at(self, at, echo_lines, &desc);
    testing_check(unlink(at + 5) == 0); /* somebody else did that */
    end_house(self);
    open_house_at(self, at, echo_lines, &desc);
    testing_check(unlink(at + 5) == 0);
    fd = open(at + 5, O_CREAT | O_EXCL | O_WRONLY, 0600);
    testing_check(fd >= 0 && close(fd) == 0);
    end_house(self);
    testing_check(is_there(at + 5)); /* it is not the server's */
    testing_check(unlink(at + 5) == 0);
    replace_server(self, at);
    return arg;
}

START_TEST(a_server_removes_no_file_but_its_own) {
    open_folder();
    for_each_kind(lose_the_path);
    end_folder();
}
END_TEST

static void *serve_by_name(void *arg) {
    house *self = (house *)arg;
    mtask_serve_desc desc = {0};
    mtask_address at;
    open_house_at(self, "localhost:0", echo_lines, &desc);
    (void)converse(self);
    end_house(self);
    open_house_at(self, "*:0", echo_lines, &desc);
    ck_assert_status(mtask_server_address(self->server, &at), MTASK_OK);
    snprintf(self->at, sizeof self->at, "127.0.0.1:%u", mtask_address_port(&at));
    (void)converse(self);
    end_house(self);
    return arg;
}

START_TEST(a_server_listens_by_name_and_on_all_addresses) {
    house self; /* once beforehand: the threads that look names up stay */
    memset(&self, 0, sizeof self);
    (void)in_loop(serve_by_name, &self);
    for_each_kind(serve_by_name);
}
END_TEST

/* A Unix socket is full when it is full: no room comes later, as by an acknowledgement of TCP. */

/* Has something to send, and nobody to take it, when it returns. */
static void fill_and_return(mtask_stream *stream, void *ctx) {
    static const char words[12000];
    house *self = (house *)ctx;
    enter(self);
    (void)fill_fd(mtask_stream_fd(stream));
    ck_assert_status(mtask_stream_write(stream, words, sizeof words, LONG), MTASK_OK);
    leave(self);
}

static void *hear_no_last_words(void *arg) {
    house *self = (house *)arg;
    mtask_serve_desc desc = {0};
    char at[MTASK_ADDRESS_TEXT];
    mtask_stream *stream;
    int64_t start;
    unix_at(at);
    desc.close_timeout = MTASK_MS(5);
    open_house_at(self, at, fill_and_return, &desc);
    start = mtask_now();
    stream = connect_to(self);
    await_value(&self->left, 1);
    await_connections(self, 0);
    testing_check(mtask_now() - start >= MTASK_MS(5));
    mtask_stream_destroy(stream);
    end_house(self);
    desc.close_timeout = LONG;
    open_house_at(self, at, fill_and_return, &desc);
    stream = connect_to(self);
    await_value(&self->left, 2);
    (void)await_end(stream); /* now somebody reads */
    mtask_stream_destroy(stream);
    end_house(self);
    return arg;
}

START_TEST(what_is_left_to_send_is_waited_for_so_long) {
    open_folder();
    for_each_kind(hear_no_last_words);
    end_folder();
}
END_TEST

static void *stop_while_sending(void *arg) {
    house *self = (house *)arg;
    mtask_serve_desc desc = {.close_timeout = LONG, .grace = MTASK_MS(1)};
    char at[MTASK_ADDRESS_TEXT];
    mtask_stream *stream;
    unix_at(at);
    open_house_at(self, at, fill_and_return, &desc);
    stream = connect_to(self);
    await_value(&self->left, 1);
    end_house(self); /* the grace counts for this wait, too */
    mtask_stream_destroy(stream);
    return arg;
}

START_TEST(a_server_stops_though_nobody_reads_what_is_left) {
    open_folder();
    for_each_kind(stop_while_sending);
    end_folder();
}
END_TEST

/* What a child does to a server of its parent is nothing. */
static void *fork_while_serving(void *arg) {
    house *self = (house *)arg;
    mtask_serve_desc desc = {0};
    char at[MTASK_ADDRESS_TEXT];
    int status = 0;
    pid_t pid;
    unix_at(at);
    open_house_at(self, at, echo_lines, &desc);
    (void)converse(self);
    pid = fork();
    if (pid == 0) {
        mtask_server_stop(self->server);
        if (mtask_server_join(self->server, MTASK_SEC(1)) != MTASK_BROKEN)
            _exit(1);
        if (!TESTING_TSAN && !TESTING_ASAN) /* whose allocators a child must not use */
            (void)mtask_server_destroy(self->server);
        _exit(!is_there(at + 5));
    }
    ck_assert_status(mtask_child_wait(pid, &status, LONG), MTASK_OK);
    ck_assert_int_eq(status, 0);
    (void)converse(self);
    ck_assert(!mtask_server_is_stopping(self->server));
    end_house(self);
    return arg;
}

START_TEST(a_child_leaves_the_servers_of_its_parent_alone) {
    open_folder();
    for_each_kind(fork_while_serving);
    end_folder();
}
END_TEST

/* ---- mtask_serve ---- */

/* Where mtask_serve gets what it is called with. */
static house *visible;

static mtask_serve_desc serve_desc(house *self) {
    mtask_serve_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.ctx = self;
    desc.loops = self->loops;
    return desc;
}

/* It listens: clients may come. */
static void note_ready(mtask_server *server, void *ctx) {
    house *self = (house *)ctx;
    mtask_address at;
    testing_check(self == visible);
    ck_assert_status(mtask_server_address(server, &at), MTASK_OK);
    (void)mtask_address_text(&at, self->at, sizeof self->at);
    self->server = server;
    mtask_event_set(&self->gate);
}

static void stop_when_ready(mtask_server *server, void *ctx) {
    note_ready(server, ctx);
    mtask_server_stop(server);
}

static void *serve_briefly(void *arg) {
    house *self = (house *)arg;
    mtask_serve_desc desc = serve_desc(self);
    visible = self;
    desc.on_ready = stop_when_ready;
    desc.grace = LONG;
    desc.signals = true; /* that comes too late */
    ck_assert_status(mtask_serve("127.0.0.1:0", echo_lines, &desc), MTASK_OK);
    ck_assert(mtask_event_is_set(&self->gate));
    ck_assert_status(mtask_serve("nonsense", echo_lines, &desc), MTASK_INVALID);
    ck_assert_status(mtask_serve("127.0.0.1:0", NULL, &desc), MTASK_INVALID);
    ck_assert_status(mtask_serve("unix:/nowhere/at/all", echo_lines, &desc), MTASK_SYSTEM);
    ck_assert_int_eq(errno, ENOENT);
    return arg;
}

START_TEST(serving_ends_when_the_server_is_stopped) {
    {
        house self; /* once beforehand: what a first signal opens stays open */
        memset(&self, 0, sizeof self);
        (void)serve_briefly(&self);
    }
    for_each_kind(serve_briefly);
}
END_TEST

/* A client in a thread of its own that ends the server by a signal. */
static void *visit_and_signal(void *arg) {
    house *self = (house *)arg;
    ck_assert_status(mtask_event_wait(&self->gate, LONG), MTASK_OK);
    (void)in_loop(converse, self);
    raise(self->pause != 0 ? SIGTERM : SIGINT);
    return arg;
}

static void *serve_until_a_signal(void *arg) {
    house *self = (house *)arg;
    visible = self;
    for (int i = 0; i < 2; i++) {
        mtask_serve_desc desc = serve_desc(self);
        struct sigaction found;
        pthread_t thread;
        desc.signals = true;
        desc.on_ready = note_ready;
        self->pause = i;
        mtask_event_clear(&self->gate);
        testing_check(pthread_create(&thread, NULL, visit_and_signal, self) == 0);
        ck_assert_status(mtask_serve("127.0.0.1:0", answer_requests, &desc), MTASK_OK);
        testing_check(pthread_join(thread, NULL) == 0);
        testing_check(sigaction(SIGTERM, NULL, &found) == 0 && found.sa_handler == SIG_IGN);
        testing_check(sigaction(SIGINT, NULL, &found) == 0 && found.sa_handler == SIG_IGN);
    }
    ck_assert_uint_eq(mtask_word_load(&self->left), 2);
    return arg;
}

START_TEST(serving_ends_by_a_signal) {
    testing_check(signal(SIGTERM, SIG_IGN) != SIG_ERR && signal(SIGINT, SIG_IGN) != SIG_ERR);
    {
        house self; /* once beforehand: what a first signal opens stays open */
        memset(&self, 0, sizeof self);
        (void)serve_until_a_signal(&self);
    }
    for_each_kind(serve_until_a_signal);
}
END_TEST

static void *serve_until_cancelled(void *arg) {
    house *self = (house *)arg;
    mtask_serve_desc desc = serve_desc(self);
    desc.grace = -1;
    desc.on_ready = note_ready;
    ck_assert_status(mtask_serve("127.0.0.1:0", sleep_long, &desc), MTASK_CANCELED);
    return arg;
}

static void *cancel_serving(void *arg) {
    house *self = (house *)arg;
    for (int i = 0; i < 2; i++) {
        mtask_stream *stream;
        mtask_future *future;
        mtask_event_clear(&self->gate);
        future = go(serve_until_cancelled, self);
        ck_assert_status(mtask_event_wait(&self->gate, LONG), MTASK_OK);
        stream = connect_to(self);
        await_value(&self->inside, 1);
        ck_assert_status(mtask_future_cancel(future), MTASK_OK);
        (void)take(future);
        ck_assert_uint_eq(mtask_word_load(&self->inside), 0);
        hear_the_end(stream);
        end_stream(stream);
    }
    ck_assert_uint_eq(mtask_word_load(&self->canceled), 2);
    mtask_event_clear(&self->gate);
    ck_assert_status(mtask_with_timeout(MTASK_MS(1), serve_until_cancelled, self, NULL),
                     MTASK_TIMEOUT);
    return arg;
}

/* In a task, whatever the loops are that serve. */
static void *cancel_serving_somewhere(void *arg) {
    visible = (house *)arg;
    return mtask_loop_current() != NULL ? cancel_serving(arg) : in_loop(cancel_serving, arg);
}

START_TEST(serving_ends_when_the_task_is_cancelled) {
    for_each_kind(cancel_serving_somewhere);
}
END_TEST

/* ---- rude clients ---- */

/* Answers at length when the input has ended. */
static void answer_at_the_end(mtask_stream *stream, void *ctx) {
    house *self = (house *)ctx;
    char byte, *bytes = malloc(MUCH);
    enter(self);
    testing_check(bytes != NULL);
    make_pattern(bytes, 0, MUCH);
    be_narrow(stream);
    ck_assert_status(mtask_stream_read_exactly(stream, &byte, 1, NULL, LONG), MTASK_OK);
    ck_assert_status(mtask_stream_read(stream, &byte, 1, NULL, LONG), MTASK_CLOSED);
    ck_assert_status(mtask_stream_write(stream, bytes, MUCH, LONG), MTASK_OK);
    free(bytes);
    leave(self);
}

static void *close_one_half(void *arg) {
    house *self = (house *)arg;
    mtask_stream *stream;
    open_house(self, answer_at_the_end, (mtask_serve_desc){0});
    stream = connect_to(self);
    ck_assert_status(mtask_stream_write(stream, "?", 1, LONG), MTASK_OK);
    ck_assert_status(mtask_stream_shutdown(stream, LONG), MTASK_OK);
    read_much(stream);
    end_stream(stream);
    end_house(self);
    return arg;
}

START_TEST(who_has_said_all_still_gets_his_answer) {
    for_each_kind(close_one_half);
}
END_TEST

/* Closes a connection without a word. */
static void reset(mtask_stream *stream) {
    mtask_stream_abort(stream);
    mtask_stream_destroy(stream);
}

static void *hang_up_in_mid_answer(void *arg) {
    house *self = (house *)arg;
    self->pause = LONG;
    open_house(self, leave_much, (mtask_serve_desc){0});
    for (mtask_word i = 1; i <= 3; i++) {
        mtask_stream *stream = connect_to(self);
        char bytes[1000];
        ck_assert_status(mtask_stream_read_exactly(stream, bytes, sizeof bytes, NULL, LONG),
                         MTASK_OK);
        if (i == 1)
            mtask_stream_destroy(stream); /* unread input: that resets, too */
        else
            reset(stream);
        await_value(&self->told, i);
    }
    await_connections(self, 0);
    end_house(self);
    return arg;
}

START_TEST(a_connection_that_is_reset_in_mid_answer_does_no_harm) {
    for_each_kind(hang_up_in_mid_answer);
}
END_TEST

/* Gives up whoever takes too long to say a line. */
static void be_impatient(mtask_stream *stream, void *ctx) {
    house *self = (house *)ctx;
    char *line;
    mtask_status status;
    enter(self);
    status = mtask_stream_read_line(stream, &line, NULL, MTASK_MS(8));
    if (status == MTASK_TIMEOUT)
        (void)mtask_word_add(&self->told, 1);
    leave(self);
}

/* Says one byte after the other, for ever. */
static void *drawl(void *arg) {
    house *self = (house *)arg;
    mtask_stream *stream = connect_to(self);
    while (mtask_stream_write(stream, "x", 1, LONG) == MTASK_OK &&
           mtask_stream_drain(stream, LONG) == MTASK_OK)
        ck_assert_status(mtask_sleep(MTASK_MS(1)), MTASK_OK);
    mtask_stream_destroy(stream);
    return arg;
}

static void *hurry_up(void *arg) {
    house *self = (house *)arg;
    open_house(self, be_impatient, (mtask_serve_desc){0});
    invite(self, 10, drawl);
    await_connections(self, 0);
    ck_assert_uint_eq(mtask_word_load(&self->told), 10);
    end_house(self);
    return arg;
}

START_TEST(who_says_his_line_too_slowly_is_given_up) {
    for_each_kind(hurry_up);
}
END_TEST

/* Connects and goes away in one of many ways. */
static void *behave_badly(void *arg) {
    house *self = (house *)arg;
    testing_random random = testing_random_make((uint64_t)self->pause, (unsigned)mtask_now());
    for (int i = 0; i < 4; i++) {
        mtask_stream *stream = connect_to(self);
        char bytes[500];
        size_t size = testing_below(&random, sizeof bytes);
        for (size_t k = 0; k < size; k++)
            bytes[k] = (char)testing_below(&random, 256);
        (void)mtask_stream_write(stream, bytes, size, LONG);
        switch (testing_below(&random, 4)) {
        case 0:
            reset(stream);
            continue;
        case 1:
            (void)mtask_stream_shutdown(stream, LONG);
            await_end(stream);
            break;
        case 2:
            (void)mtask_stream_close(stream, LONG);
            break;
        default:
            break;
        }
        mtask_stream_destroy(stream);
    }
    return arg;
}

static void *stand_bad_behaviour(void *arg) {
    house *self = (house *)arg;
    self->pause = (int64_t)(testing_seed() >> 1);
    open_house(self, echo_lines, (mtask_serve_desc){.stream = {.buffer = 64, .limit = 128}});
    invite(self, 15, behave_badly);
    (void)converse(self);
    await_connections(self, 0);
    ck_assert_uint_eq(mtask_word_load(&self->inside), 0);
    end_house(self);
    return arg;
}

START_TEST(clients_that_behave_badly_do_no_harm) {
    for_each_kind(stand_bad_behaviour);
}
END_TEST

/* ---- many ---- */

/* Sockets of which mtask does not know, so many that no task could be spared for each. */
static int plain_connect(const mtask_address *to, int fd) {
    if (fd < 0)
        fd = socket(to->as.any.sa_family, SOCK_STREAM, 0);
    testing_check(fd >= 0 && connect(fd, &to->as.any, to->size) == 0);
    return fd;
}

/* Lets this process have many descriptors; how many clients it can afford, who take two each. */
static int afford(int clients) {
    struct rlimit limit;
    testing_check(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    limit.rlim_cur = limit.rlim_max;
    testing_check(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    if (limit.rlim_cur < (rlim_t)(2 * clients + 100))
        clients = (int)(limit.rlim_cur - 100) / 2;
    return clients;
}

/* A request that takes its time. */
static void answer_late(mtask_stream *stream, void *ctx) {
    house *self = (house *)ctx;
    char *line;
    enter(self);
    ck_assert_status(mtask_stream_read_line(stream, &line, NULL, LONG), MTASK_OK);
    ck_assert_status(mtask_sleep(self->pause), MTASK_OK);
    ck_assert_status(mtask_stream_printf(stream, LONG, "%s\n", line), MTASK_OK);
    leave(self);
}

/* So many slow requests at once; how many of them were in the server together. */
static mtask_word ask_slowly(house *self, int count) {
    mtask_address at;
    int *fds = calloc((size_t)count, sizeof *fds);
    testing_check(fds != NULL);
    ck_assert_status(mtask_server_address(self->server, &at), MTASK_OK);
    mtask_word_store(&self->most, 0);
    for (int i = 0; i < count; i++) {
        fds[i] = plain_connect(&at, -1);
        feed(fds[i], "late\n");
    }
    for (int i = 0; i < count; i++) {
        check_fed(fds[i], "late\n");
        close(fds[i]);
    }
    free(fds);
    return mtask_word_load(&self->most);
}

START_TEST(a_thousand_slow_requests_overlap) {
    int count = afford(TESTING_TSAN ? 200 : 1000); /* it allows of few tasks */
    int64_t start;
    house self;
    memset(&self, 0, sizeof self);
    self.loops = 1;
    self.pause = MTASK_MS(300);
    open_house(&self, answer_late, (mtask_serve_desc){.stack_size = 65536});
    start = mtask_now();
    while (ask_slowly(&self, count) <= (mtask_word)(count - count / 10)) {
        self.pause *= 3; /* on a slow machine it takes longer until all are there */
        testing_check(self.pause < MTASK_SEC(9));
    }
    testing_check(mtask_now() - start >= MTASK_MS(300));
    await_connections(&self, 0);
    end_house(&self);
}
END_TEST

#define CHURNERS 4

/* Comes, says a word, hears it, and goes, again and again. */
static void churn(testing_member *self) {
    house *host = (house *)self->arg;
    mtask_address at;
    ck_assert_status(mtask_server_address(host->server, &at), MTASK_OK);
    for (long i = testing_scale(1000) / CHURNERS; i >= 0; i--) {
        int fd = plain_connect(&at, -1);
        if (i % 8 != 0) {
            feed(fd, "churn\n");
            check_fed(fd, "churn\n");
        }
        close(fd);
        self->number++;
    }
}

START_TEST(connections_come_and_go) {
    int fds, threads;
    (void)in_thread(do_nothing, NULL);
    fds = count_fds();
    threads = count_threads();
    for (unsigned loops = 1; loops <= 2; loops++) {
        testing_crowd crowd;
        house self;
        long count = 0;
        memset(&self, 0, sizeof self);
        self.loops = loops;
        open_house(&self, echo_lines, (mtask_serve_desc){0});
        testing_crowd_start(&crowd, CHURNERS, churn, &self);
        testing_crowd_join(&crowd);
        for (int i = 0; i < CHURNERS; i++)
            count += crowd.members[i].number;
        while (stats_of(&self).accepted < (size_t)count)
            linger();
        await_connections(&self, 0);
        ck_assert_uint_eq(mtask_word_load(&self.left), (mtask_word)count);
        end_house(&self);
        ck_assert_int_eq(count_fds(), fds);
        while (count_threads() > threads)
            testing_pause(1);
    }
}
END_TEST

/* ---- a lack of descriptors ---- */

#define POOR 4  /* descriptors that are left to the server */
#define MANY 12 /* clients */

/* Clients that are there before the descriptors are gone. */
typedef struct queue_of_clients {
    int fds[MANY];
    rlim_t before;
} queue_of_clients;

static void limit_descriptors(rlim_t count) {
    struct rlimit limit;
    testing_check(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    limit.rlim_cur = count;
    testing_check(setrlimit(RLIMIT_NOFILE, &limit) == 0);
}

/* Returns when all loops of the server have opened what they need: nothing changes any more. */
static void await_settled(void) {
    for (int before = -1, now = count_fds(); now != before;) {
        ck_assert_status(mtask_sleep(MTASK_MS(10)), MTASK_OK);
        before = now;
        now = count_fds();
    }
}

/* Leaves POOR descriptors to the server, then connects them all. */
static void become_poor(queue_of_clients *all, const house *self) {
    struct rlimit limit;
    mtask_address at;
    int next;
    await_settled();
    ck_assert_status(mtask_server_address(self->server, &at), MTASK_OK);
    testing_check(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    all->before = limit.rlim_cur;
    for (int i = 0; i < MANY; i++)
        all->fds[i] = socket(AF_INET, SOCK_STREAM, 0);
    next = dup(all->fds[0]);
    testing_check(next >= 0 && close(next) == 0);
    limit_descriptors((rlim_t)(next + POOR));
    for (int i = 0; i < MANY; i++) {
        (void)plain_connect(&at, all->fds[i]);
        feed(all->fds[i], "poor\n");
    }
}

/* Hears all answers, in the order in which they come; each client goes away when it has its own. */
static void hear_the_poor(queue_of_clients *all) {
    mtask_io_case cases[MANY];
    for (int i = 0; i < MANY; i++)
        cases[i] = (mtask_io_case){.fd = all->fds[i], .events = MTASK_IO_READ};
    for (int left = MANY; left > 0;) {
        ck_assert_status(mtask_io_select(cases, MANY, LONG), MTASK_OK);
        for (int i = 0; i < MANY; i++)
            if (cases[i].fd >= 0 && cases[i].ready != 0) {
                check_fed(cases[i].fd, "poor\n");
                close(cases[i].fd);
                cases[i].fd = -1;
                left--;
            }
    }
}

/* Returns when the server cannot accept any more. */
static void await_stall(const house *self) {
    mtask_server_stats stats = stats_of(self);
    while (stats.stalls == 0) {
        linger();
        stats = stats_of(self);
    }
    ck_assert_uint_gt(stats.accepted, 0);
    ck_assert_uint_le(stats.accepted, POOR);
    ck_assert_uint_eq(stats.connections, stats.accepted);
}

static void *run_out_of_descriptors(void *arg) {
    house *self = (house *)arg;
    for (int lifted = 0; lifted < 2; lifted++) {
        queue_of_clients all;
        open_house(self, echo_lines, (mtask_serve_desc){0});
        become_poor(&all, self);
        await_stall(self);
        if (lifted != 0) {
            ck_assert_status(mtask_sleep(MTASK_MS(30)), MTASK_OK);
            ck_assert_uint_lt(stats_of(self).stalls, 100); /* it does not try all the time */
            limit_descriptors(all.before);
            await_connections(self, MANY);
        }
        hear_the_poor(&all);
        await_connections(self, 0);
        ck_assert_uint_eq(stats_of(self).accepted, MANY);
        ck_assert_uint_ge(stats_of(self).stalls, 1);
        limit_descriptors(all.before);
        end_house(self);
    }
    return arg;
}

START_TEST(without_descriptors_a_server_accepts_later) {
    for_each_kind(run_out_of_descriptors);
}
END_TEST

/* With so many descriptors left, a server starts and serves, or does not start. */
static bool start_poor(house *self, rlim_t left) {
    mtask_serve_desc desc = {.loops = self->loops, .ctx = self};
    struct rlimit limit;
    mtask_status status;
    int next = dup(0), error;
    testing_check(next >= 0 && close(next) == 0 && getrlimit(RLIMIT_NOFILE, &limit) == 0);
    limit_descriptors((rlim_t)next + left);
    errno = 0;
    status = mtask_server_start(&self->server, "127.0.0.1:0", echo_lines, &desc);
    error = errno;
    limit_descriptors(limit.rlim_cur);
    if (status != MTASK_OK) {
        ck_assert_status(status, MTASK_SYSTEM);
        ck_assert_int_eq(error, EMFILE);
        testing_check(self->server == NULL);
        return false;
    }
    ck_assert_status(mtask_server_join(self->server, MTASK_MS(5)), MTASK_TIMEOUT);
    end_house(self);
    return true;
}

static void *start_ever_less_poor(void *arg) {
    rlim_t left = 0;
    while (!start_poor((house *)arg, left))
        testing_check(++left < 100);
    ck_assert_uint_gt(left, 0);
    return arg;
}

START_TEST(without_descriptors_a_server_does_not_start) {
    for_each_kind(start_ever_less_poor);
}
END_TEST

static void *stop_in_a_stall(void *arg) {
    house *self = (house *)arg;
    queue_of_clients all;
    open_house(self, answer_requests, (mtask_serve_desc){.grace = LONG});
    become_poor(&all, self);
    await_stall(self);
    mtask_server_stop(self->server);
    ck_assert_status(mtask_server_join(self->server, LONG), MTASK_OK);
    end_house(self);
    limit_descriptors(all.before);
    for (int i = 0; i < MANY; i++)
        close(all.fds[i]);
    return arg;
}

START_TEST(a_server_without_descriptors_stops) {
    for_each_kind(stop_in_a_stall);
}
END_TEST

TESTING_MAIN(
    "serve", a_server_starts_and_stops, clients_are_served_one_by_one_and_together,
    several_loops_share_the_connections, a_loop_for_each_cpu_serves, a_handler_finds_all_it_needs,
    a_handler_may_end_in_any_way, a_handler_may_be_a_client,
    no_more_connections_are_accepted_than_allowed, who_is_beyond_the_limit_waits_to_be_accepted,
    a_server_at_its_limit_stops, handlers_between_two_requests_end_when_the_server_stops,
    handlers_in_the_midst_of_a_request_go_on, a_server_has_stopped_when_its_last_handler_returns,
    handlers_are_cancelled_when_the_grace_has_passed, destroying_a_server_stops_it,
    what_a_cancelled_handler_leaves_in_the_stream_is_sent, a_server_that_has_stopped_refuses,
    a_handler_stops_its_server_but_does_not_wait_for_that, many_wait_for_a_server_to_stop,
    a_server_ends_with_the_loop_on_which_it_serves, many_servers_live_side_by_side,
    all_that_a_handler_wrote_arrives, who_does_not_read_is_given_up,
    a_server_that_cannot_listen_does_not_start, two_servers_may_share_a_port,
    a_server_can_be_started_again_at_once, the_file_of_a_unix_socket_lasts_as_long_as_its_server,
    a_server_removes_no_file_but_its_own, a_server_listens_by_name_and_on_all_addresses,
    what_is_left_to_send_is_waited_for_so_long, a_server_stops_though_nobody_reads_what_is_left,
    a_child_leaves_the_servers_of_its_parent_alone, serving_ends_when_the_server_is_stopped,
    serving_ends_by_a_signal, serving_ends_when_the_task_is_cancelled,
    who_has_said_all_still_gets_his_answer, a_connection_that_is_reset_in_mid_answer_does_no_harm,
    who_says_his_line_too_slowly_is_given_up, clients_that_behave_badly_do_no_harm,
    a_thousand_slow_requests_overlap, connections_come_and_go,
    without_descriptors_a_server_accepts_later, without_descriptors_a_server_does_not_start,
    a_server_without_descriptors_stops)
