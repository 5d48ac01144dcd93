/* test_mtask_io_stress.c - tasks of several loops and threads on descriptors that come and go

   What goes through a connection tells whose it is and where it belongs: byte number `offset` of what
   has the number `tag`. So whoever reads what was not meant for it, or reads something twice or not
   at all, finds out. Most waits have no time-out: if a wake-up is lost, the test hangs. */
#define TEST_TIMEOUT 60
#include "testing_io.h"
#include "testing_pool.h"
#include "testing_queue.h"

#define ADD(counter, n) __atomic_fetch_add((counter), (n), __ATOMIC_ACQ_REL)
#define READ(variable)  __atomic_load_n((variable), __ATOMIC_ACQUIRE)
#define WRITE(at, v)    __atomic_store_n((at), (v), __ATOMIC_RELEASE)

#define PIECE 6000 /* bytes that are read or written at a time, at most */
#define KEPT  16   /* descriptors that mtask keeps for threads that wait, at most */

/* ---- bytes that tell whose they are ---- */

static unsigned char byte_at(uint64_t tag, uint64_t offset) {
    return (unsigned char)((tag >> offset % 8 * 8) + offset / 8);
}

static void make_bytes(unsigned char *bytes, size_t size, uint64_t tag, uint64_t offset) {
    for (size_t i = 0; i < size; i++)
        bytes[i] = byte_at(tag, offset + i);
}

static void check_bytes(const void *buffer, size_t size, uint64_t tag, uint64_t offset) {
    const unsigned char *bytes = (const unsigned char *)buffer;
    for (size_t i = 0; i < size; i++)
        testing_check(bytes[i] == byte_at(tag, offset + i));
}

/* Often a few bytes, often many; `most` at most. */
static size_t some_size(testing_random *random, uint64_t most) {
    uint64_t limit = testing_below(random, 4) == 0 ? 16 : PIECE;
    return (size_t)(1 + testing_below(random, limit < most ? limit : most));
}

/* Leaves little room for what is on its way from this end. */
static void make_narrow(int fd) {
    int room = 4096;
    testing_check(setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &room, sizeof room) == 0);
}

static void open_narrow_pair(int ends[2]) {
    open_pair(ends);
    make_narrow(ends[0]);
    make_narrow(ends[1]);
}

/* ---- a storm of signals ---- */

typedef struct weather {
    testing_crowd *crowd;
    bool over;
} weather;

static void make_storm(testing_member *self) {
    weather *outside = (weather *)self->arg;
    while (!READ(&outside->over)) {
        for (int i = 0; i < outside->crowd->count; i++)
            if (!testing_has_finished(&outside->crowd->members[i]))
                testing_check(pthread_kill(outside->crowd->members[i].thread, SIGUSR1) == 0);
        ck_assert_status(mtask_sleep(MTASK_US(150)), MTASK_OK);
    }
}

/* Waits for the crowd, whose threads SIGUSR1 interrupts all the time. */
static void join_in_storm(testing_crowd *crowd) {
    weather outside = {.crowd = crowd};
    testing_crowd storm;
    testing_crowd_start(&storm, 1, make_storm, &outside);
    testing_await_finished(crowd, crowd->count);
    WRITE(&outside.over, true);
    testing_crowd_join(&storm);
    testing_crowd_join(crowd);
}

/* ---- connections come and go ---- */

typedef enum transport { OWN_PAIR, OWN_PIPES, OWN_TCP, OWN_TWINS, PLAIN_PAIR, PLAIN_TCP } transport;

#define TRANSPORTS 6

/* One end of a line; used by its keeper's thread alone, but for `left`. */
typedef struct side {
    int in, out;   /* the same, but for pipes and twins, which are two numbers for one end */
    bool open;     /* not closed by its keeper */
    bool left;     /* it is about to be closed: the other side may hear of that */
    bool reading;  /* not to the end of the input yet */
    bool writing;  /* not all of its output yet */
    bool read_all; /* it was told of the end of the input */
    uint64_t tag;  /* of its output */
    uint64_t limit, sent, received;
} side;

typedef struct line {
    transport kind;
    bool calm; /* nobody is cancelled, no side is closed before its time */
    side sides[2];
    mtask_event over; /* side 1 is done with it */
} line;

/* One who makes, or is given, one line after the other, and has two tasks use an end of it; or uses it
   by itself, as a thread. */
typedef struct keeper {
    int which; /* of the two sides */
    bool in_loop;
    mtask_queue *lines; /* from side 0 to side 1 */
    line *current;
    side *mine;
    side *other;
    long rounds;
    int64_t start;
    testing_random random;
} keeper;

static uint64_t roll(keeper *k, uint64_t limit) {
    return testing_below(&k->random, limit);
}

static int64_t patience(keeper *k) {
    uint64_t what = roll(k, 8);
    if (what == 0)
        return MTASK_NOWAIT;
    return what < 3 || !k->in_loop ? MTASK_US(roll(k, 300)) : MTASK_FOREVER;
}

static bool is_plain(const line *one) {
    return one->kind >= PLAIN_PAIR;
}

/* `idle`: nobody waits for it. */
static void close_fd(const line *one, int fd, bool idle) {
    if (idle && is_plain(one))
        testing_check(close(fd) == 0);
    else
        end_fd(fd);
}

static void close_side(keeper *k, bool idle) {
    side *mine = k->mine;
    if (!mine->open)
        return;
    mine->open = false;
    WRITE(&mine->left, true);
    if (mine->out >= 0 && mine->out != mine->in)
        close_fd(k->current, mine->out, idle);
    close_fd(k->current, mine->in, idle);
}

/* Whether that was the end of a direction; the ones that say so must have a reason. */
static bool is_end(keeper *k, mtask_status status) {
    int error = errno;
    if (status == MTASK_OK || status == MTASK_TIMEOUT)
        return false;
    if (status == MTASK_CANCELED) {
        testing_check(mtask_canceled());
        return false;
    }
    if (status == MTASK_CLOSED)
        return true;
    ck_assert_status(status, MTASK_BROKEN);
    testing_check(!k->mine->open || READ(&k->other->left));
    testing_check(error == EBADF ? !k->mine->open : error == ECONNRESET || error == EPIPE);
    return true;
}

/* Waits in one of several ways until there is input, which must be there then. */
static mtask_status await_input(keeper *k) {
    mtask_io_case cases[3] = {{-1, MTASK_IO_READ, 7}, {0, MTASK_IO_READ, 7}, {-1, 0, 7}};
    mtask_status status;
    cases[1].fd = k->mine->in;
    if (roll(k, 2) == 0)
        status = mtask_io_wait(k->mine->in, MTASK_IO_READ, patience(k));
    else
        status = mtask_io_select(cases, 3, patience(k));
    if (status == MTASK_OK)
        testing_check(polled(k->mine->in, POLLIN) != 0);
    return status;
}

static mtask_status read_in_parts(int fd, unsigned char *bytes, size_t size, size_t *count,
                                  int64_t timeout) {
    struct iovec parts[3];
    parts[0].iov_base = bytes;
    parts[0].iov_len = size / 3;
    parts[1].iov_base = bytes + size / 3;
    parts[1].iov_len = 0;
    parts[2].iov_base = bytes + size / 3;
    parts[2].iov_len = size - size / 3;
    return mtask_io_readv(fd, parts, 3, count, timeout);
}

static mtask_status read_once(keeper *k) {
    unsigned char bytes[PIECE];
    side *mine = k->mine;
    size_t size = some_size(&k->random, sizeof bytes), count = 0;
    mtask_status status = MTASK_OK;
    int64_t timeout = patience(k);
    if (roll(k, 4) == 0 && (status = await_input(k)) != MTASK_OK)
        ;
    else if (roll(k, 3) == 0)
        status = read_in_parts(mine->in, bytes, size, &count, timeout);
    else if (k->current->kind != OWN_PIPES && roll(k, 3) == 0)
        status = mtask_io_recvfrom(mine->in, bytes, size, &count, NULL, timeout);
    else
        status = mtask_io_read(mine->in, bytes, size, &count, timeout);
    testing_check(count <= size && (count > 0) <= (status == MTASK_OK));
    check_bytes(bytes, count, k->other->tag, mine->received);
    mine->received += count;
    if (is_end(k, status)) {
        mine->reading = false;
        mine->read_all = status == MTASK_CLOSED;
    }
    return status;
}

static mtask_status write_in_parts(int fd, unsigned char *bytes, size_t size, size_t *count,
                                   int64_t timeout) {
    struct iovec parts[2];
    parts[0].iov_base = bytes;
    parts[0].iov_len = size / 3;
    parts[1].iov_base = bytes + size / 3;
    parts[1].iov_len = size - size / 3;
    return mtask_io_writev(fd, parts, 2, count, timeout);
}

/* Tells the other side that no more comes. */
static void end_output(side *mine) {
    mine->writing = false;
    if (mine->in == mine->out) {
        (void)shutdown(mine->out, SHUT_WR); /* the other one may be gone */
        return;
    }
    (void)shutdown(mine->out, SHUT_WR); /* of twins, so that it ends for both */
    end_fd(mine->out);
    mine->out = -1;
}

static mtask_status write_once(keeper *k) {
    unsigned char bytes[PIECE];
    side *mine = k->mine;
    size_t size, count = 0;
    mtask_status status;
    int64_t timeout = patience(k);
    if (mine->sent == mine->limit) {
        end_output(mine);
        return MTASK_OK;
    }
    size = some_size(&k->random, mine->limit - mine->sent);
    make_bytes(bytes, size, mine->tag, mine->sent);
    if (roll(k, 4) == 0 && (status = mtask_io_wait(mine->out, MTASK_IO_WRITE, timeout)) != MTASK_OK)
        ;
    else if (roll(k, 3) == 0)
        status = write_in_parts(mine->out, bytes, size, &count, timeout);
    else
        status = mtask_io_write(mine->out, bytes, size, &count, timeout);
    testing_check(count <= size && (count == size || status != MTASK_OK));
    mine->sent += count;
    if (is_end(k, status))
        mine->writing = false;
    return status;
}

static void *read_task(void *arg) {
    keeper *k = (keeper *)arg;
    while (k->mine->reading && k->mine->open)
        if (read_once(k) == MTASK_CANCELED)
            return NULL;
    k->mine->reading = false;
    return NULL;
}

static void *write_task(void *arg) {
    keeper *k = (keeper *)arg;
    while (k->mine->writing && k->mine->open)
        if (write_once(k) == MTASK_CANCELED)
            return NULL;
    k->mine->writing = false;
    return NULL;
}

static void end_task(mtask_future *task) {
    ck_assert_status(mtask_future_wait(task, MTASK_FOREVER), MTASK_OK);
    mtask_future_release(task);
}

/* Lets two tasks use the end, cancels them and closes it at random. */
static void tend_by_tasks(keeper *k) {
    mtask_fn fns[2] = {read_task, write_task};
    mtask_future *tasks[2] = {go(read_task, k), go(write_task, k)};
    for (uint64_t turns = k->current->calm ? 0 : roll(k, 20); turns > 0; turns--) {
        uint64_t which = roll(k, 2);
        ck_assert_status(mtask_sleep(MTASK_US(roll(k, 100))), MTASK_OK);
        if (roll(k, 24) == 0)
            close_side(k, false);
        if (roll(k, 2) == 0)
            continue;
        (void)mtask_future_cancel(tasks[which]);
        end_task(tasks[which]);
        tasks[which] = go(fns[which], k);
    }
    if (!k->current->calm && roll(k, 3) == 0)
        close_side(k, false);
    end_task(tasks[0]);
    end_task(tasks[1]);
}

static void tend_by_hand(keeper *k) {
    while (k->mine->open && (k->mine->reading || k->mine->writing)) {
        if (k->mine->reading)
            (void)read_once(k);
        if (k->mine->writing)
            (void)write_once(k);
        if (!k->current->calm && roll(k, 100) == 0)
            close_side(k, true);
    }
}

static void tend(keeper *k, line *one) {
    k->current = one;
    k->mine = &one->sides[k->which];
    k->other = &one->sides[1 - k->which];
    if (k->in_loop)
        tend_by_tasks(k);
    else
        tend_by_hand(k);
    close_side(k, true);
}

static void open_twins(int ends[2], int twins[2]) {
    open_pair(ends);
    for (int i = 0; i < 2; i++) {
        twins[i] = fcntl(ends[i], F_DUPFD_CLOEXEC, 0);
        testing_check(twins[i] >= 0);
        ck_assert_status(mtask_io_adopt(twins[i]), MTASK_OK);
    }
}

static void open_pipes(int ins[2], int outs[2]) {
    for (int i = 0; i < 2; i++) {
        int ends[2];
        open_pipe(ends);
        ins[i] = ends[0];
        outs[1 - i] = ends[1];
    }
}

/* A connection of TCP, by mtask's own calls. */
static void open_tcp_line(int ends[2]) {
    mtask_address address;
    char text[MTASK_ADDRESS_TEXT];
    int listener;
    ck_assert_status(mtask_tcp_listen(&listener, "127.0.0.1:0", NULL), MTASK_OK);
    ck_assert_status(mtask_io_local(listener, &address), MTASK_OK);
    (void)mtask_address_text(&address, text, sizeof text);
    ck_assert_status(mtask_tcp_connect(&ends[0], text, MTASK_FOREVER), MTASK_OK);
    ck_assert_status(mtask_tcp_accept(listener, &ends[1], NULL, MTASK_FOREVER), MTASK_OK);
    end_fd(listener);
}

/* Past mtask, whose calls a signal does not interrupt. */
static void plain_tcp_line(int ends[2]) {
    sigset_t set, old;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    testing_check(pthread_sigmask(SIG_BLOCK, &set, &old) == 0);
    plain_tcp(ends);
    testing_check(pthread_sigmask(SIG_SETMASK, &old, NULL) == 0);
}

static void connect_line(keeper *k, line *one) {
    int ins[2], outs[2];
    static void (*const makers[TRANSPORTS])(int ends[2]) = {open_pair, NULL,       open_tcp_line,
                                                            NULL,      plain_pair, plain_tcp_line};
    if (makers[one->kind] != NULL) {
        makers[one->kind](ins);
        memcpy(outs, ins, sizeof ins);
    } else if (one->kind == OWN_PIPES) {
        open_pipes(ins, outs);
    } else {
        open_twins(ins, outs);
    }
    for (int i = 0; i < 2; i++) {
        one->sides[i].in = ins[i];
        one->sides[i].out = outs[i];
        if (one->kind != OWN_PIPES && roll(k, 2) == 0)
            make_narrow(outs[i]);
        if (is_plain(one) && roll(k, 2) == 0)
            set_blocking(ins[i], false);
    }
}

static line *open_line(keeper *k) {
    line *one = (line *)calloc(1, sizeof *one);
    testing_check(one != NULL);
    one->kind = (transport)roll(k, TRANSPORTS);
    one->calm = roll(k, 2) == 0;
    connect_line(k, one);
    for (int i = 0; i < 2; i++) {
        one->sides[i].open = one->sides[i].reading = one->sides[i].writing = true;
        one->sides[i].tag = testing_next(&k->random);
        one->sides[i].limit = roll(k, 3) == 0 ? roll(k, 40) : roll(k, 30000);
    }
    return one;
}

/* Nothing was lost, nothing came out of nowhere. (TCP throws away what is on its way to who has sent to
   one that is closed, and says so only once: to who reads, or to who writes.) */
static void end_line(line *one) {
    bool tcp = one->kind == OWN_TCP || one->kind == PLAIN_TCP;
    for (int i = 0; i < 2; i++) {
        const side *reader = &one->sides[i], *writer = &one->sides[1 - i];
        testing_check(reader->received <= writer->sent);
        testing_check(!reader->read_all || reader->received == writer->sent || (tcp && !one->calm));
        testing_check(!one->calm || (reader->read_all && reader->received == writer->limit));
    }
    free(one);
}

static void *keep(void *arg) {
    keeper *k = (keeper *)arg;
    line *one;
    if (k->which == 1) {
        while (mtask_queue_get(k->lines, &one, MTASK_FOREVER) == MTASK_OK) {
            tend(k, one);
            mtask_event_set(&one->over);
        }
        return NULL;
    }
    for (long round = 0; round < k->rounds && testing_has_time(k->start); round++) {
        one = open_line(k);
        ck_assert_status(mtask_queue_put(k->lines, &one, MTASK_FOREVER), MTASK_OK);
        tend(k, one);
        ck_assert_status(mtask_event_wait(&one->over, MTASK_FOREVER), MTASK_OK);
        end_line(one);
    }
    ck_assert_status(mtask_queue_close(k->lines), MTASK_OK);
    return NULL;
}

/* Where the keepers of both sides live: in a loop, or (2) each in a thread of its own. */
static const int homes[][2] = {{0, 1}, {1, 0}, {0, 0}, {1, 1}, {0, 2}, {2, 1}, {2, 2}};

#define TRACKS  7
#define KEEPERS (2 * TRACKS)

static void *keep_loop(void *arg) {
    keeper **some = (keeper **)arg;
    mtask_future *tasks[KEEPERS];
    int count = 0;
    for (; some[count] != NULL; count++)
        tasks[count] = go(keep, some[count]);
    while (count > 0)
        end_task(tasks[--count]);
    return NULL;
}

static void keep_loop_thread(testing_member *self) {
    (void)in_loop(keep_loop, self->arg);
}

static void keep_thread(testing_member *self) {
    (void)keep(self->arg);
}

static void open_keepers(keeper *keepers, mtask_queue *queues, long rounds) {
    uint64_t seed = testing_seed();
    for (int i = 0; i < KEEPERS; i++) {
        keeper *k = &keepers[i];
        k->which = i % 2;
        k->in_loop = homes[i / 2][i % 2] < 2;
        k->lines = &queues[i / 2];
        k->rounds = rounds;
        k->start = mtask_now();
        k->random = testing_random_make(seed, (unsigned)i);
    }
    for (int i = 0; i < TRACKS; i++) {
        mtask_queue_desc desc = {.capacity = 1, .item_size = sizeof(line *)};
        ck_assert_status(mtask_queue_init(&queues[i], &desc), MTASK_OK);
    }
}

START_TEST(connections_come_and_go) {
    static keeper keepers[KEEPERS];
    mtask_queue queues[TRACKS] = {0};
    keeper *of_loop[2][KEEPERS + 1] = {{0}};
    int count[2] = {0, 0};
    testing_crowd crowd = {.count = 0};
    int fds = count_fds();
    testing_catch_signals();
    open_keepers(keepers, queues, testing_scale(300));
    for (int i = 0; i < KEEPERS; i++)
        if (keepers[i].in_loop)
            of_loop[homes[i / 2][i % 2]][count[homes[i / 2][i % 2]]++] = &keepers[i];
        else
            (void)testing_crowd_add(&crowd, keep_thread, &keepers[i]);
    for (int i = 0; i < 2; i++)
        (void)testing_crowd_add(&crowd, keep_loop_thread, of_loop[i]);
    join_in_storm(&crowd);
    for (int i = 0; i < TRACKS; i++)
        ck_assert_status(mtask_queue_deinit(&queues[i]), MTASK_OK);
    ck_assert_int_le(count_fds(), fds + KEPT);
}
END_TEST

/* ---- closed from elsewhere, while tasks of two loops wait, and reused at once ---- */

#define LOOPS   2
#define TARGETS 4 /* descriptors of a loop */
#define WAITERS 3 /* at most, for each */

typedef enum target_kind { INPUT, ROOM, LISTENER, INPUT_STREAM, TARGET_KINDS } target_kind;

/* How far a waiter is, or all of a descriptor. A task that was seen three times by another one of its
   loop waits for something: it has had its turns in between. */
enum { RESTING, CALLING, SEEN, SEEN_TWICE, PARKED, LOOKED_AT, CLOSING };

typedef struct target {
    target_kind kind;
    int fd, far; /* far: -1: none */
    mtask_stream *stream;
    int state; /* RESTING, CALLING (all waiters are there), LOOKED_AT (by one), CLOSING */
    int waiters;
    struct waiter {
        struct target *target;
        int loop;
        int how;
        int state;
    } all[WAITERS];
} target;

typedef struct arena {
    target targets[LOOPS * TARGETS];
    mtask_loop *loops[LOOPS];
    mtask_word ready; /* loops that have begun */
    mtask_word busy;  /* owners that have not ended */
    long rounds;
    int64_t start;
    uint64_t seed;
    long closed;
} arena;

static arena *the_arena;

static mtask_status wait_for_input(const target *one, int how) {
    char bytes[8];
    size_t count = 0;
    struct iovec part = {bytes, sizeof bytes};
    mtask_io_case cases[2] = {{one->fd, MTASK_IO_READ, 0}, {one->far, 0, 0}};
    switch (how % 5) {
    case 0:
        return mtask_io_wait(one->fd, MTASK_IO_READ, MTASK_FOREVER);
    case 1:
        return mtask_io_select(cases, 1, MTASK_FOREVER);
    case 2:
        return mtask_io_readv(one->fd, &part, 1, &count, MTASK_FOREVER);
    case 3:
        return mtask_io_recvfrom(one->fd, bytes, sizeof bytes, &count, NULL, MTASK_FOREVER);
    default:
        return mtask_io_read(one->fd, bytes, sizeof bytes, &count, MTASK_FOREVER);
    }
}

static mtask_status wait_for_room(const target *one, int how) {
    static const char bytes[100];
    if (how % 3 == 0)
        return mtask_io_wait(one->fd, MTASK_IO_WRITE, MTASK_FOREVER);
    if (how % 3 == 1)
        return mtask_io_sendto(one->fd, bytes, sizeof bytes, NULL, MTASK_FOREVER);
    return mtask_io_write(one->fd, bytes, sizeof bytes, NULL, MTASK_FOREVER);
}

static mtask_status wait_for_stream(const target *one, int how) {
    const char *data;
    char *text;
    size_t size;
    if (how % 2 == 0)
        return mtask_stream_fill(one->stream, 1, &data, &size, MTASK_FOREVER);
    return mtask_stream_read_line(one->stream, &text, &size, MTASK_FOREVER);
}

static void *wait_in_vain(void *arg) {
    struct waiter *self = (struct waiter *)arg;
    const target *one = self->target;
    int fd = -1;
    mtask_status status;
    WRITE(&self->state, CALLING);
    if (one->kind == INPUT)
        status = wait_for_input(one, self->how);
    else if (one->kind == ROOM)
        status = wait_for_room(one, self->how);
    else if (one->kind == LISTENER)
        status = mtask_tcp_accept(one->fd, &fd, NULL, MTASK_FOREVER);
    else
        status = wait_for_stream(one, self->how);
    ck_assert_status(status, MTASK_BROKEN);
    testing_check(errno == EBADF && fd == -1);
    ck_assert_int_eq(READ(&one->state), CLOSING);
    WRITE(&self->state, RESTING);
    return NULL;
}

/* Looks which waiters of the own loop are parked. */
static void look_around(int loop) {
    for (int i = 0; i < LOOPS * TARGETS; i++)
        for (int j = 0; j < WAITERS; j++) {
            struct waiter *one = &the_arena->targets[i].all[j];
            bool here = READ(&one->loop) == loop; /* and stays so while its loop does this */
            int state = READ(&one->state);
            if (here && state >= CALLING && state < PARKED)
                WRITE(&one->state, state + 1);
        }
}

static void open_target(target *one, testing_random *random) {
    int ends[2] = {-1, -1};
    one->kind = (target_kind)testing_below(random, TARGET_KINDS);
    one->waiters = 1 + (int)testing_below(random, one->kind == INPUT_STREAM ? 1 : WAITERS);
    if (one->kind == LISTENER)
        ck_assert_status(mtask_tcp_listen(&ends[0], "127.0.0.1:0", NULL), MTASK_OK);
    else if (testing_below(random, 2) == 0)
        open_pair(ends);
    else
        plain_pair(ends);
    if (one->kind == ROOM) {
        make_narrow(ends[0]);
        (void)fill_fd(ends[0]);
    }
    one->fd = ends[0];
    one->far = ends[1];
    if (one->kind == INPUT_STREAM)
        ck_assert_status(mtask_stream_open(&one->stream, one->fd, NULL), MTASK_OK);
}

/* Whether it is time to close it: if so, that is the caller's to do. */
static bool claim_target(target *one) {
    int state = CALLING;
    bool parked = true;
    if (!__atomic_compare_exchange_n(&one->state, &state, LOOKED_AT, false, __ATOMIC_ACQ_REL,
                                     __ATOMIC_ACQUIRE))
        return false;
    for (int i = 0; i < one->waiters; i++)
        parked = parked && READ(&one->all[i].state) == PARKED;
    WRITE(&one->state, parked ? CLOSING : CALLING);
    return parked;
}

/* Closes it, and has its number used by others at once: whatever its waiters do now must not touch
   that. */
static void close_target(target *one, testing_random *random) {
    unsigned char bytes[64];
    uint64_t tag = testing_next(random);
    int ends[2];
    if (one->kind != INPUT_STREAM)
        end_fd(one->fd);
    else
        mtask_stream_abort(one->stream);
    (void)(testing_below(random, 2) == 0 ? open_pair(ends) : plain_pair(ends));
    make_bytes(bytes, sizeof bytes, tag, 0);
    for (int i = 0; i < 2; i++)
        testing_check(write(ends[i], bytes, sizeof bytes) == sizeof bytes);
    testing_dawdle(random, 20000);
    for (int i = 0; i < 2; i++) {
        testing_check(read(ends[i], bytes, sizeof bytes) == sizeof bytes);
        check_bytes(bytes, sizeof bytes, tag, 0);
        testing_check((polled(ends[i], POLLIN | POLLOUT) & ~POLLOUT) == 0);
    }
    end_fds(ends);
    (void)ADD(&the_arena->closed, 1);
}

/* One of them, if it is time. */
static bool close_some(testing_random *random) {
    target *one = &the_arena->targets[testing_below(random, LOOPS * TARGETS)];
    if (!claim_target(one))
        return false;
    close_target(one, random);
    return true;
}

/* Makes a descriptor, has tasks wait for it, and sees how that ends. */
static void *own_targets(void *arg) {
    target *one = (target *)arg;
    unsigned index = (unsigned)(one - the_arena->targets);
    testing_random random = testing_random_make(the_arena->seed, index);
    mtask_future *tasks[WAITERS];
    for (long i = 0; i < the_arena->rounds && testing_has_time(the_arena->start); i++) {
        open_target(one, &random);
        for (int j = 0; j < one->waiters; j++) {
            struct waiter *w = &one->all[j];
            w->target = one;
            WRITE(&w->loop,
                  one->stream != NULL ? (int)index / TARGETS : (int)testing_below(&random, LOOPS));
            w->how = (int)testing_below(&random, 100);
            ck_assert_status(mtask_loop_go(the_arena->loops[w->loop], wait_in_vain, w, &tasks[j]),
                             MTASK_OK);
        }
        WRITE(&one->state, CALLING);
        for (int j = 0; j < one->waiters; j++)
            (void)take(tasks[j]);
        ck_assert_int_eq(READ(&one->state), CLOSING);
        if (one->far >= 0)
            end_fd(one->far);
        mtask_stream_destroy(one->stream);
        one->stream = NULL;
        WRITE(&one->state, RESTING);
    }
    (void)mtask_word_add(&the_arena->busy, (mtask_word)-1);
    return NULL;
}

/* The first task of a loop: watches, and closes now and then itself. */
static void *watch_targets(void *arg) {
    int loop = (int)(intptr_t)arg;
    testing_random random = testing_random_make(the_arena->seed, 100 + (unsigned)loop);
    the_arena->loops[loop] = mtask_loop_current();
    (void)mtask_word_add(&the_arena->ready, 1);
    while (mtask_word_load(&the_arena->ready) < LOOPS)
        take_turns();
    for (int i = 0; i < TARGETS; i++)
        mtask_future_release(go(own_targets, &the_arena->targets[loop * TARGETS + i]));
    while (mtask_word_load(&the_arena->busy) > 0) {
        look_around(loop);
        ck_assert_status(mtask_sleep(MTASK_US(testing_below(&random, 30))), MTASK_OK);
        if (testing_below(&random, 8) == 0)
            (void)close_some(&random);
    }
    return NULL;
}

static void watch_thread(testing_member *self) {
    (void)in_loop(watch_targets, (void *)(intptr_t)self->index);
}

static void close_thread(testing_member *self) {
    testing_random random = testing_random_make(the_arena->seed, 200 + (unsigned)self->index);
    while (mtask_word_load(&the_arena->busy) > 0)
        if (!close_some(&random))
            sched_yield();
}

START_TEST(closed_from_elsewhere_and_reused_at_once) {
    arena all = {.rounds = testing_scale(800), .seed = testing_seed(), .start = mtask_now()};
    testing_crowd crowd;
    all.busy = LOOPS * TARGETS;
    the_arena = &all;
    testing_crowd_start(&crowd, LOOPS, watch_thread, NULL);
    for (int i = 0; i < 2; i++)
        (void)testing_crowd_add(&crowd, close_thread, NULL);
    testing_crowd_join(&crowd);
    ck_assert_int_gt(all.closed, 0);
}
END_TEST

/* Threads that wait outside of loops; seen to be asleep before it is closed. */
typedef struct sleeper_pair {
    int fd;
    long how;
} sleeper_pair;

static void sleep_in_vain(testing_member *self) {
    const sleeper_pair *both = (const sleeper_pair *)self->arg;
    char bytes[8];
    mtask_io_case one = {both->fd, MTASK_IO_READ, 0};
    if (both->how % 3 == 0)
        self->status = mtask_io_wait(both->fd, MTASK_IO_READ, MTASK_FOREVER);
    else if (both->how % 3 == 1)
        self->status = mtask_io_select(&one, 1, MTASK_FOREVER);
    else
        self->status = mtask_io_read(both->fd, bytes, sizeof bytes, NULL, MTASK_FOREVER);
    self->number = errno;
}

START_TEST(closed_while_threads_sleep_on_it) {
    for (long i = 0; i < testing_scale(24); i++) {
        sleeper_pair both = {-1, i};
        testing_crowd crowd;
        int ends[2], next[2];
        (void)(i % 4 < 2 ? open_pair(ends) : plain_pair(ends));
        both.fd = ends[0];
        testing_crowd_start(&crowd, 2, sleep_in_vain, &both);
        testing_crowd_await_asleep(&crowd, 2);
        end_fd(ends[0]);
        open_pair(next);
        feed(next[0], "not for you");
        feed(next[1], "nor this");
        testing_crowd_join(&crowd);
        ck_assert_int_eq(testing_crowd_count(&crowd, MTASK_BROKEN), 2);
        ck_assert_int_eq(crowd.members[0].number, EBADF);
        check_fed(next[0], "nor this");
        check_fed(next[1], "not for you");
        end_fds(next);
        end_fd(ends[1]);
    }
}
END_TEST

/* ---- closed while its reader has let others run ---- */

/* What a task reads that always finds input: `own` bytes, and none of those who have the number next. */
typedef struct greedy {
    int fd;
    long own, others;
} greedy;

static void *read_greedily(void *arg) {
    greedy *self = (greedy *)arg;
    char bytes[8];
    size_t count;
    mtask_status status;
    while ((status = mtask_io_read(self->fd, bytes, sizeof bytes, &count, MTASK_FOREVER)) ==
           MTASK_OK)
        for (size_t i = 0; i < count; i++)
            (void)(bytes[i] == 'a' ? self->own++ : self->others++);
    ck_assert_status(status, MTASK_BROKEN);
    return NULL;
}

static void *close_before_greedy(void *arg) {
    char bytes[40000];
    for (long i = testing_scale(300); i > 0; i--) {
        greedy reader = {-1, 0, 0};
        mtask_future *task;
        int ends[2], next[2];
        open_pair(ends);
        memset(bytes, 'a', sizeof bytes);
        testing_check(write(ends[1], bytes, sizeof bytes) == sizeof bytes);
        reader.fd = ends[0];
        task = go(read_greedily, &reader);
        for (long turns = 0; turns <= i % 3; turns++)
            take_turns();
        end_fd(ends[0]);
        open_pair(next); /* has the same number */
        testing_check(write(next[0], "bbbb", 4) == 4 && write(next[1], "bbbb", 4) == 4);
        end_task(task);
        testing_check(reader.own < (long)sizeof bytes && reader.others == 0);
        end_fds(next);
        end_fd(ends[1]);
    }
    return arg;
}

START_TEST(closed_while_its_reader_lets_others_run) {
    (void)in_loop(close_before_greedy, NULL);
}
END_TEST

/* A pipe of packets: each read brings one, however much more there is. */
static void *read_packets(void *arg) {
    const int *ends = (const int *)arg;
    char bytes[100];
    size_t count;
    for (int i = 0; i < 30; i++) {
        ck_assert_status(mtask_io_read(ends[0], bytes, sizeof bytes, &count, MTASK_FOREVER),
                         MTASK_OK);
        testing_check(count == 3);
    }
    return arg;
}

static void *write_packets(void *arg) {
    int ends[2];
    mtask_future *task;
    testing_check(pipe2(ends, O_DIRECT | O_CLOEXEC) == 0);
    ck_assert_status(mtask_io_adopt(ends[0]), MTASK_OK);
    ck_assert_status(mtask_io_adopt(ends[1]), MTASK_OK);
    task = go(read_packets, ends);
    for (int i = 0; i < 30; i++) {
        feed(ends[1], "abc");
        if (i % 10 == 9)
            ck_assert_status(mtask_sleep(MTASK_MS(1)), MTASK_OK);
    }
    (void)take(task);
    end_fds(ends);
    return arg;
}

START_TEST(a_short_read_need_not_be_the_last) {
    (void)in_loop(write_packets, NULL);
}
END_TEST

/* ---- loops come and go, descriptors stay ---- */

#define FLOWS 4

/* One direction of a connection that outlives loops. */
typedef struct river {
    mtask_mutex lock; /* who reads and writes has it */
    int from, to;
    uint64_t tag, sent, received;
} river;

typedef struct land {
    river rivers[2 * FLOWS];
    long lives;
    int64_t start;
    uint64_t seed;
} land;

/* What one life of a loop does with one of them. */
typedef struct voyage {
    river *on;
    uint64_t bytes;
    testing_random random;
} voyage;

static void *flow_out(void *arg) {
    voyage *v = (voyage *)arg;
    unsigned char bytes[PIECE];
    testing_random random = v->random;
    for (uint64_t end = v->on->sent + v->bytes; v->on->sent < end;) {
        size_t size = some_size(&random, end - v->on->sent);
        make_bytes(bytes, size, v->on->tag, v->on->sent);
        ck_assert_status(mtask_io_write(v->on->from, bytes, size, NULL, MTASK_FOREVER), MTASK_OK);
        v->on->sent += size;
    }
    return NULL;
}

static void *flow_in(void *arg) {
    voyage *v = (voyage *)arg;
    unsigned char bytes[PIECE];
    for (uint64_t end = v->on->received + v->bytes; v->on->received < end;) {
        size_t count, most = some_size(&v->random, end - v->on->received);
        ck_assert_status(mtask_io_read(v->on->to, bytes, most, &count, MTASK_FOREVER), MTASK_OK);
        check_bytes(bytes, count, v->on->tag, v->on->received);
        v->on->received += count;
    }
    return NULL;
}

/* Waits where nothing comes, until the loop ends, or for a moment. */
static void *wait_idly(void *arg) {
    voyage *v = (voyage *)arg;
    char byte;
    bool brief = testing_below(&v->random, 2) == 0;
    int64_t timeout = brief ? MTASK_US(testing_below(&v->random, 200)) : MTASK_FOREVER;
    mtask_status status;
    if (mtask_mutex_lock_for(&v->on->lock, MTASK_NOWAIT) != MTASK_OK)
        return NULL;
    status = mtask_io_read(v->on->to, &byte, 1, NULL, timeout);
    testing_check(status == MTASK_CANCELED || (brief && status == MTASK_TIMEOUT));
    ck_assert_status(mtask_mutex_unlock(&v->on->lock), MTASK_OK);
    return NULL;
}

/* The first task of a loop: has bytes flow here, and elsewhere waits in vain. */
static void *live(void *arg) {
    voyage *voyages = (voyage *)arg;
    for (int i = 0; i < 2 * FLOWS; i++) {
        voyage *v = &voyages[i];
        mtask_call both[2] = {{flow_out, v}, {flow_in, v}};
        if (testing_below(&v->random, 3) == 0) {
            ck_assert_status(mtask_go(wait_idly, v, NULL), MTASK_OK);
        } else if (mtask_mutex_lock_for(&v->on->lock, MTASK_NOWAIT) == MTASK_OK) {
            v->bytes = testing_below(&v->random, 20000);
            ck_assert_status(mtask_gather(both, 2, NULL), MTASK_OK);
            ck_assert_status(mtask_mutex_unlock(&v->on->lock), MTASK_OK);
        }
    }
    (void)mtask_sleep(MTASK_US(testing_below(&voyages[0].random, 100)));
    return NULL;
}

/* One life of a loop after the other; or, in a thread without one, a few bytes at a time. */
static void live_again(testing_member *self) {
    land *here = (land *)self->arg;
    voyage voyages[2 * FLOWS];
    for (int i = 0; i < 2 * FLOWS; i++) {
        voyages[i].on = &here->rivers[i];
        voyages[i].random = testing_random_make(here->seed, (unsigned)(self->index * 100 + i));
    }
    for (long life = 0; life < here->lives && testing_has_time(here->start); life++) {
        voyage *v = &voyages[life % (2 * FLOWS)];
        if (self->index < LOOPS) {
            (void)in_loop(live, voyages);
        } else if (mtask_mutex_lock_for(&v->on->lock, MTASK_NOWAIT) == MTASK_OK) {
            v->bytes = testing_below(&v->random, 5); /* for which there is room */
            (void)flow_out(v);
            (void)flow_in(v);
            ck_assert_status(mtask_mutex_unlock(&v->on->lock), MTASK_OK);
        }
    }
}

START_TEST(loops_come_and_go_descriptors_stay) {
    land here = {.lives = testing_scale(400), .seed = testing_seed(), .start = mtask_now()};
    testing_crowd crowd;
    int64_t moved = 0;
    testing_catch_signals();
    for (int i = 0; i < FLOWS; i++) {
        int ends[2];
        if (i % 2 == 0)
            open_narrow_pair(ends);
        else
            plain_pair(ends);
        for (int j = 0; j < 2; j++) {
            here.rivers[2 * i + j].from = ends[j];
            here.rivers[2 * i + j].to = ends[1 - j];
            here.rivers[2 * i + j].tag = here.seed * (uint64_t)(2 * i + j + 1);
        }
    }
    testing_crowd_start(&crowd, LOOPS + 1, live_again, &here);
    join_in_storm(&crowd);
    for (int i = 0; i < 2 * FLOWS; i++) {
        ck_assert_int_eq((int64_t)here.rivers[i].sent, (int64_t)here.rivers[i].received);
        moved += (int64_t)here.rivers[i].sent;
        end_fd(here.rivers[i].from);
    }
    ck_assert_int_gt(moved, 0);
}
END_TEST

/* ---- several read one descriptor, several write it ---- */

#define READERS 4 /* of a loop */
#define SENDERS 2 /* of a loop */

/* Numbers go through a socket that keeps them apart; each must come out once, though those who read
   are cancelled at random: who is woken and does not take it passes it on. */
typedef struct exchange {
    int ends[2];
    long count;
    long next; /* number to be sent */
    long taken;
    mtask_word sending; /* senders that have not ended */
    unsigned char *got;
    uint64_t seed;
} exchange;

static void *send_numbers(void *arg) {
    exchange *all = (exchange *)arg;
    for (;;) {
        long number = ADD(&all->next, 1);
        if (number >= all->count)
            break;
        ck_assert_status(mtask_io_write(all->ends[0], &number, sizeof number, NULL, MTASK_FOREVER),
                         MTASK_OK);
    }
    if (mtask_word_add(&all->sending, (mtask_word)-1) == 1) /* all have been sent */
        end_fd(all->ends[0]);
    return NULL;
}

static void *read_numbers(void *arg) {
    exchange *all = (exchange *)arg;
    mtask_status status;
    do {
        long number = -1;
        size_t size = 0;
        status = mtask_io_read(all->ends[1], &number, sizeof number, &size, MTASK_FOREVER);
        if (status != MTASK_OK)
            break;
        testing_check(size == sizeof number && number >= 0 && number < all->count);
        testing_check(ADD(&all->got[number], 1) == 0);
        (void)ADD(&all->taken, 1);
    } while (status == MTASK_OK);
    testing_check(status == MTASK_CLOSED || (status == MTASK_CANCELED && mtask_canceled()));
    return (void *)(intptr_t)status;
}

/* The first task of a loop: starts those who read and write, and has readers replaced. */
static void *exchange_numbers(void *arg) {
    exchange *all = (exchange *)arg;
    mtask_future *readers[READERS], *senders[SENDERS];
    testing_random random = testing_random_make(all->seed, (unsigned)(mtask_now() % 1000));
    for (int i = 0; i < READERS; i++)
        readers[i] = go(read_numbers, all);
    for (int i = 0; i < SENDERS; i++)
        senders[i] = go(send_numbers, all);
    while (mtask_word_load(&all->sending) > 0) {
        uint64_t which = testing_below(&random, READERS);
        ck_assert_status(mtask_sleep(MTASK_US(testing_below(&random, 60))), MTASK_OK);
        (void)mtask_future_cancel(readers[which]);
        end_task(readers[which]);
        readers[which] = go(read_numbers, all);
    }
    for (int i = 0; i < SENDERS; i++)
        end_task(senders[i]);
    for (int i = 0; i < READERS; i++)
        end_task(readers[i]);
    return NULL;
}

static void exchange_thread(testing_member *self) {
    exchange *all = (exchange *)self->arg;
    if (self->index < LOOPS)
        (void)in_loop(exchange_numbers, all);
    else if (self->index == LOOPS)
        (void)send_numbers(all);
    else
        (void)read_numbers(all);
}

static void open_exchange(exchange *all, bool own) {
    testing_check(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, all->ends) == 0);
    make_narrow(all->ends[0]);
    if (own) {
        ck_assert_status(mtask_io_adopt(all->ends[0]), MTASK_OK);
        ck_assert_status(mtask_io_adopt(all->ends[1]), MTASK_OK);
    }
    all->sending = LOOPS * SENDERS + 1;
    all->next = all->taken = 0;
    all->seed = testing_seed();
    all->got = (unsigned char *)calloc((size_t)all->count, 1);
    testing_check(all->got != NULL);
}

START_TEST(several_share_a_descriptor) {
    exchange all = {.count = testing_scale(40000)};
    testing_catch_signals();
    for (int own = 0; own < 2; own++) {
        testing_crowd crowd;
        open_exchange(&all, own != 0);
        testing_crowd_start(&crowd, LOOPS + 2, exchange_thread, &all);
        join_in_storm(&crowd);
        ck_assert_int_eq(all.taken, all.count);
        end_fd(all.ends[1]);
        free(all.got);
    }
}
END_TEST

/* ---- a chain of proxies ---- */

#define HOPS  6
#define LINKS (2 * HOPS + 4)

/* One that passes on what comes from a descriptor, or a stream, to another one. */
typedef struct pump {
    int from, to;
    mtask_stream *source, *sink; /* NULL: the descriptors as such */
    testing_random random;
} pump;

typedef struct chain {
    pump pumps[2 * HOPS];  /* there, and back */
    int first[2], last[2]; /* descriptors: of the one who sends, and of the one who answers */
    flow flows[LOOPS + 1][LINKS];
    uint64_t tag;
    uint64_t bytes;
    uint64_t seed;
} chain;

static void pump_descriptors(pump *p) {
    unsigned char bytes[PIECE];
    mtask_status status;
    size_t count;
    while ((status = mtask_io_read(p->from, bytes, some_size(&p->random, PIECE), &count,
                                   MTASK_FOREVER)) == MTASK_OK)
        ck_assert_status(mtask_io_write(p->to, bytes, count, NULL, MTASK_FOREVER), MTASK_OK);
    ck_assert_status(status, MTASK_CLOSED);
    testing_check(shutdown(p->to, SHUT_WR) == 0);
}

static void pump_streams(pump *p) {
    mtask_status status;
    const char *data;
    size_t size;
    while ((status = mtask_stream_fill(p->source, 1, &data, &size, MTASK_FOREVER)) == MTASK_OK) {
        size_t part = some_size(&p->random, size);
        ck_assert_status(mtask_stream_write(p->sink, data, part, MTASK_FOREVER), MTASK_OK);
        ck_assert_status(mtask_stream_skip(p->source, part), MTASK_OK);
        if (testing_below(&p->random, 3) == 0 || part == size)
            ck_assert_status(mtask_stream_drain(p->sink, MTASK_FOREVER), MTASK_OK);
    }
    ck_assert_status(status, MTASK_CLOSED);
    testing_check(mtask_stream_at_eof(p->source));
    ck_assert_status(mtask_stream_shutdown(p->sink, MTASK_FOREVER), MTASK_OK);
}

static void *run_pump(void *arg) {
    pump *p = (pump *)arg;
    if (p->source != NULL)
        pump_streams(p);
    else
        pump_descriptors(p);
    return NULL;
}

static void *send_along(void *arg) {
    chain *all = (chain *)arg;
    testing_random random = testing_random_make(all->seed, 1000);
    unsigned char bytes[PIECE];
    for (uint64_t sent = 0; sent < all->bytes;) {
        size_t size = some_size(&random, all->bytes - sent);
        make_bytes(bytes, size, all->tag, sent);
        ck_assert_status(mtask_io_write(all->first[0], bytes, size, NULL, MTASK_FOREVER), MTASK_OK);
        sent += size;
    }
    testing_check(shutdown(all->first[0], SHUT_WR) == 0);
    return NULL;
}

/* Reads what has come back. */
static void *hear_back(void *arg) {
    chain *all = (chain *)arg;
    unsigned char bytes[PIECE];
    uint64_t received = 0;
    mtask_status status;
    size_t count;
    while ((status = mtask_io_read(all->first[0], bytes, PIECE, &count, MTASK_FOREVER)) ==
           MTASK_OK) {
        check_bytes(bytes, count, all->tag, received);
        received += count;
    }
    ck_assert_status(status, MTASK_CLOSED);
    ck_assert_int_eq((int64_t)received, (int64_t)all->bytes);
    return NULL;
}

static void *answer(void *arg) {
    chain *all = (chain *)arg;
    pump echo = {.from = all->last[1], .to = all->last[1]};
    echo.random = testing_random_make(all->seed, 1001);
    pump_descriptors(&echo);
    return NULL;
}

/* Runs the parts of the chain that live in a loop. */
static void *run_links(void *arg) {
    flow *flows = (flow *)arg;
    mtask_future *tasks[LINKS];
    int count = 0;
    for (; flows[count].fn != NULL; count++)
        tasks[count] = go(flow_main, &flows[count]);
    while (count > 0)
        (void)take(tasks[--count]);
    return NULL;
}

static void chain_thread(testing_member *self) {
    chain *all = (chain *)self->arg;
    if (self->index < LOOPS)
        (void)in_loop(run_links, all->flows[self->index]);
    else
        (void)flow_main(&all->flows[LOOPS][self->index - LOOPS]);
}

/* Adds a part to a loop, or (LOOPS) to the threads. */
static void add_link(chain *all, int where, mtask_fn fn, void *arg) {
    flow *free = all->flows[where];
    while (free->fn != NULL)
        free++;
    free->fn = fn;
    free->arg = arg;
}

/* Those who use the same stream are tasks of one loop; the last hop is two threads. */
static void spread_chain(chain *all) {
    for (int i = 0; i < 2 * HOPS; i++) {
        int hop = i / 2;
        int where = all->pumps[i].source != NULL ? hop / 2 % 2 : i % 2;
        add_link(all, hop < HOPS - 1 ? where : LOOPS, run_pump, &all->pumps[i]);
    }
    add_link(all, 0, send_along, all);
    add_link(all, 1, hear_back, all);
    add_link(all, LOOPS, answer, all);
}

/* Connects them: hop i reads what hop i - 1 writes, and the other way round. */
static void open_chain(chain *all, mtask_stream *streams[2 * HOPS]) {
    int ends[2];
    open_narrow_pair(all->first);
    ends[1] = all->first[1];
    for (int i = 0; i < HOPS; i++) {
        int near = ends[1];
        pump *there = &all->pumps[2 * i], *back = &all->pumps[2 * i + 1];
        if (i % 3 == 2)
            plain_tcp(ends);
        else
            open_narrow_pair(ends);
        there->from = back->to = near;
        there->to = back->from = ends[0];
        if (i % 2 == 0) {
            mtask_stream_desc desc = {.buffer = 512};
            ck_assert_status(mtask_stream_open(&streams[2 * i], near, &desc), MTASK_OK);
            ck_assert_status(mtask_stream_open(&streams[2 * i + 1], ends[0], NULL), MTASK_OK);
            there->source = back->sink = streams[2 * i];
            there->sink = back->source = streams[2 * i + 1];
        }
        there->random = testing_random_make(all->seed, (unsigned)(2 * i));
        back->random = testing_random_make(all->seed, (unsigned)(2 * i + 1));
        all->last[0] = ends[0];
        all->last[1] = ends[1];
    }
}

static void end_chain(chain *all, mtask_stream *streams[2 * HOPS]) {
    end_fd(all->first[0]);
    end_fd(all->last[1]);
    for (int i = 0; i < HOPS; i++)
        if (streams[2 * i] != NULL) {
            ck_assert_status(mtask_stream_close(streams[2 * i], MTASK_FOREVER), MTASK_OK);
            ck_assert_status(mtask_stream_close(streams[2 * i + 1], MTASK_FOREVER), MTASK_OK);
            mtask_stream_destroy(streams[2 * i]);
            mtask_stream_destroy(streams[2 * i + 1]);
        } else {
            end_fd(all->pumps[2 * i].from);
            end_fd(all->pumps[2 * i].to);
        }
}

START_TEST(chain_of_proxies) {
    static chain all;
    mtask_stream *streams[2 * HOPS] = {NULL};
    testing_crowd crowd;
    testing_catch_signals();
    all.bytes = (uint64_t)testing_scale(1500000);
    all.seed = all.tag = testing_seed();
    open_chain(&all, streams);
    spread_chain(&all);
    testing_crowd_start(&crowd, LOOPS + 3, chain_thread, &all);
    join_in_storm(&crowd);
    end_chain(&all, streams);
}
END_TEST

/* ---- many write to one stream, and no message is torn ---- */

#define AUTHORS 6

typedef struct message_head {
    uint32_t size; /* bytes that follow */
    uint32_t author;
    uint64_t number;
} message_head;

typedef struct author {
    struct paper *paper;
    uint32_t index;
    testing_random random;
    uint64_t written; /* messages */
    bool broken;
} author;

typedef struct paper {
    mtask_stream *stream; /* for the authors */
    mtask_stream *copy;   /* the other end */
    author authors[AUTHORS];
    uint64_t read[AUTHORS]; /* messages */
    long messages;          /* of each author */
    mtask_word at_work;     /* authors that have not ended */
    bool patient;           /* all wait until they have written */
    uint64_t seed;
} paper;

static mtask_status write_message(author *self, int64_t timeout) {
    unsigned char bytes[PIECE];
    message_head head;
    struct iovec parts[3];
    mtask_stream *stream = self->paper->stream;
    size_t size = some_size(&self->random, PIECE - sizeof head);
    head.size = (uint32_t)size;
    head.author = self->index;
    head.number = self->written;
    make_bytes(bytes + sizeof head, size, self->index, self->written);
    memcpy(bytes, &head, sizeof head);
    if (testing_below(&self->random, 2) == 0)
        return mtask_stream_write(stream, bytes, sizeof head + size, timeout);
    parts[0].iov_base = &head;
    parts[0].iov_len = sizeof head;
    parts[1].iov_base = bytes + sizeof head;
    parts[1].iov_len = size / 2;
    parts[2].iov_base = bytes + sizeof head + size / 2;
    parts[2].iov_len = size - size / 2;
    return mtask_stream_writev(stream, parts, 3, timeout);
}

static int64_t authors_patience(author *self) {
    if (self->paper->patient || testing_below(&self->random, 4) != 0)
        return MTASK_FOREVER;
    return MTASK_US(testing_below(&self->random, 2) * testing_below(&self->random, 200));
}

static void *write_messages(void *arg) {
    author *self = (author *)arg;
    while (self->written < (uint64_t)self->paper->messages && !self->broken) {
        mtask_status status = write_message(self, authors_patience(self));
        self->written += status == MTASK_OK;
        self->broken = status == MTASK_BROKEN;
        testing_check(status == MTASK_OK || (!self->paper->patient &&
                                             (status == MTASK_TIMEOUT || status == MTASK_BROKEN)));
        if (testing_below(&self->random, 16) == 0)
            (void)mtask_stream_drain(self->paper->stream, authors_patience(self));
        if (testing_below(&self->random, 16) == 0)
            (void)mtask_yield();
    }
    (void)mtask_word_add(&self->paper->at_work, (mtask_word)-1);
    return NULL;
}

/* Reads one message, in one of several ways. */
static mtask_status read_message(paper *p, testing_random *random) {
    unsigned char bytes[PIECE];
    const char *data;
    message_head head;
    size_t size;
    mtask_status status =
        mtask_stream_read_exactly(p->copy, &head, sizeof head, &size, MTASK_FOREVER);
    if (status != MTASK_OK)
        return status == MTASK_CLOSED && size == 0 ? MTASK_DONE : status;
    testing_check(head.author < AUTHORS && head.size <= PIECE);
    testing_check(head.number == p->read[head.author]);
    if (testing_below(random, 2) == 0) {
        status = mtask_stream_fill(p->copy, head.size, &data, &size, MTASK_FOREVER);
        if (status != MTASK_OK)
            return status;
        check_bytes(data, head.size, head.author, head.number);
        ck_assert_status(mtask_stream_skip(p->copy, head.size), MTASK_OK);
    } else {
        status = mtask_stream_read_exactly(p->copy, bytes, head.size, NULL, MTASK_FOREVER);
        if (status != MTASK_OK)
            return status;
        check_bytes(bytes, head.size, head.author, head.number);
    }
    p->read[head.author]++;
    return MTASK_OK;
}

static void *read_messages(void *arg) {
    paper *p = (paper *)arg;
    testing_random random = testing_random_make(p->seed, 100);
    mtask_status status;
    do {
        status = read_message(p, &random);
        if (testing_below(&random, 64) == 0)
            (void)mtask_sleep(MTASK_US(testing_below(&random, 200)));
    } while (status == MTASK_OK);
    testing_check(status == MTASK_DONE || (!p->patient && status == MTASK_CLOSED));
    return NULL;
}

/* Four authors are tasks of one loop, two are threads; the reader is in another loop. */
static void *write_in_loop(void *arg) {
    paper *p = (paper *)arg;
    mtask_future *tasks[4];
    mtask_status status;
    for (int i = 0; i < 4; i++)
        tasks[i] = go(write_messages, &p->authors[i]);
    for (int i = 0; i < 4; i++)
        (void)take(tasks[i]);
    while (mtask_word_load(&p->at_work) > 0)
        ck_assert_status(mtask_sleep(MTASK_US(50)), MTASK_OK);
    status = mtask_stream_close(p->stream, MTASK_FOREVER);
    testing_check(status == MTASK_OK || !p->patient);
    return NULL;
}

static void paper_thread(testing_member *self) {
    paper *p = (paper *)self->arg;
    if (self->index < LOOPS)
        (void)in_loop(self->index == 0 ? write_in_loop : read_messages, p);
    else
        (void)write_messages(&p->authors[2 + self->index]);
}

static void open_paper(paper *p, bool patient) {
    mtask_stream_desc desc = {.buffer = 1000};
    int ends[2];
    p->patient = patient;
    p->at_work = AUTHORS;
    p->seed = testing_seed();
    for (uint32_t i = 0; i < AUTHORS; i++) {
        p->authors[i].paper = p;
        p->authors[i].index = i;
        p->authors[i].random = testing_random_make(p->seed, i);
    }
    open_narrow_pair(ends);
    ck_assert_status(mtask_stream_open(&p->stream, ends[0], &desc), MTASK_OK);
    ck_assert_status(mtask_stream_open(&p->copy, ends[1], NULL), MTASK_OK);
}

/* What was written has come, unless the stream broke: then nothing else has. */
static void end_paper(paper *p) {
    bool broken = false;
    for (int i = 0; i < AUTHORS; i++)
        broken = broken || p->authors[i].broken;
    testing_check(!broken || !p->patient);
    for (int i = 0; i < AUTHORS; i++) {
        testing_check(p->read[i] <= p->authors[i].written);
        testing_check(broken || p->read[i] == (uint64_t)p->messages);
    }
    mtask_stream_destroy(p->copy);
    mtask_stream_destroy(p->stream);
}

static void publish(bool patient, long messages) {
    paper p = {.messages = messages};
    testing_crowd crowd;
    open_paper(&p, patient);
    testing_crowd_start(&crowd, 4, paper_thread, &p);
    join_in_storm(&crowd);
    end_paper(&p);
}

START_TEST(messages_are_not_torn) {
    testing_catch_signals();
    publish(true, testing_scale(1500));
    for (long i = testing_scale(20); i > 0; i--)
        publish(false, 50);
}
END_TEST

/* ---- servers come and go ---- */

#define CLIENTS 3 /* tasks of a loop; and a thread */

typedef struct service {
    mtask_server *server;
    char address[MTASK_ADDRESS_TEXT];
    mtask_word inside; /* handlers */
    mtask_word served;
    mtask_word stopping; /* from now on clients may fail */
    mtask_word leave;    /* clients are to go */
    bool brisk;          /* clients are not waited for: it stops in the midst */
    uint64_t seed;
} service;

/* Sends back what comes; now and then does that by way of a thread. */
static void *nothing(void *arg) {
    return arg;
}

static void echo_back(mtask_stream *stream, void *ctx) {
    service *one = (service *)ctx;
    const char *data;
    size_t size;
    long turn = 0;
    (void)mtask_word_add(&one->inside, 1);
    while (mtask_stream_idle(stream, MTASK_FOREVER) == MTASK_OK &&
           mtask_stream_fill(stream, 1, &data, &size, MTASK_FOREVER) == MTASK_OK) {
        if (++turn % 8 == 0)
            ck_assert_status(mtask_offload(nothing, NULL, NULL), MTASK_OK);
        if (mtask_stream_write(stream, data, size, MTASK_FOREVER) != MTASK_OK)
            break;
        ck_assert_status(mtask_stream_skip(stream, size), MTASK_OK);
    }
    (void)mtask_word_add(&one->served, 1);
    (void)mtask_word_add(&one->inside, (mtask_word)-1);
}

/* One connection, some questions, each answered. False: the server is going. */
static bool visit(service *one, testing_random *random) {
    unsigned char bytes[2000];
    mtask_stream *stream;
    uint64_t tag = testing_next(random);
    mtask_status status = mtask_stream_connect(&stream, one->address, NULL, MTASK_FOREVER);
    if (status != MTASK_OK) {
        testing_check(mtask_word_load(&one->stopping) != 0);
        return false;
    }
    for (uint64_t left = testing_below(random, 6); status == MTASK_OK && left > 0; left--) {
        size_t size = some_size(random, sizeof bytes);
        make_bytes(bytes, size, tag, 0);
        status = mtask_stream_write(stream, bytes, size, MTASK_FOREVER);
        memset(bytes, 0, sizeof bytes);
        if (status == MTASK_OK)
            status = mtask_stream_read_exactly(stream, bytes, size, NULL, MTASK_FOREVER);
        if (status == MTASK_OK)
            check_bytes(bytes, size, tag, 0);
    }
    testing_check(status == MTASK_OK || mtask_word_load(&one->stopping) != 0);
    if (testing_below(random, 3) == 0)
        mtask_stream_abort(stream);
    mtask_stream_destroy(stream);
    return status == MTASK_OK;
}

typedef struct client {
    service *one;
    testing_random random;
} client;

static void *be_client(void *arg) {
    client *self = (client *)arg;
    do
        if (!visit(self->one, &self->random))
            break;
    while (mtask_word_load(&self->one->leave) == 0);
    return NULL;
}

static void *be_clients(void *arg) {
    service *one = (service *)arg;
    client clients[CLIENTS];
    mtask_future *tasks[CLIENTS];
    for (unsigned i = 0; i < CLIENTS; i++) {
        clients[i].one = one;
        clients[i].random = testing_random_make(one->seed, i);
        tasks[i] = go(be_client, &clients[i]);
    }
    for (int i = 0; i < CLIENTS; i++)
        (void)take(tasks[i]);
    return NULL;
}

static void client_thread(testing_member *self) {
    service *one = (service *)self->arg;
    client alone = {one, testing_random_make(one->seed, 50)};
    if (self->index == 0)
        (void)in_loop(be_clients, one);
    else
        (void)be_client(&alone);
}

static void start_service(service *one, testing_random *random) {
    static const char *const places[] = {"127.0.0.1:0", "unix:@mtask-stress-%d", "[::1]:0"};
    char wanted[64];
    mtask_address address;
    mtask_serve_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.ctx = one;
    desc.loops = mtask_loop_current() != NULL ? 0 : 1 + (unsigned)testing_below(random, 3);
    desc.max_connections = (size_t)testing_below(random, 3);
    desc.grace = one->brisk ? -1 : MTASK_SEC(50);
    (void)snprintf(wanted, sizeof wanted, places[testing_below(random, 2)], (int)getpid());
    ck_assert_status(mtask_server_start(&one->server, wanted, echo_back, &desc), MTASK_OK);
    ck_assert_status(mtask_server_address(one->server, &address), MTASK_OK);
    (void)mtask_address_text(&address, one->address, sizeof one->address);
}

static void stop_service(service *one, testing_random *random, testing_crowd *crowd) {
    mtask_server_stats stats;
    ck_assert_status(mtask_sleep(MTASK_US(testing_below(random, 2000))), MTASK_OK);
    mtask_word_store(&one->leave, 1);
    while (!one->brisk && testing_crowd_finished(crowd) < crowd->count)
        ck_assert_status(mtask_sleep(MTASK_US(200)), MTASK_OK);
    mtask_word_store(&one->stopping, 1);
    mtask_server_stop(one->server);
    ck_assert_status(mtask_server_join(one->server, MTASK_FOREVER), MTASK_OK);
    ck_assert_int_eq((int)mtask_word_load(&one->inside), 0);
    stats = mtask_server_get_stats(one->server);
    testing_check(mtask_server_is_stopping(one->server) && stats.connections == 0);
    testing_check(stats.accepted >= mtask_word_load(&one->served) && stats.stalls == 0);
    ck_assert_status(mtask_server_destroy(one->server), MTASK_OK);
}

/* A server lives, from a thread or in a task. */
static void *serve_once(void *arg) {
    testing_random *random = (testing_random *)arg;
    service one = {.brisk = testing_below(random, 2) == 0};
    testing_crowd crowd;
    one.seed = testing_next(random);
    start_service(&one, random);
    testing_crowd_start(&crowd, 2, client_thread, &one);
    stop_service(&one, random, &crowd);
    testing_crowd_join(&crowd);
    return NULL;
}

START_TEST(servers_come_and_go) {
    testing_random random = testing_random_make(testing_seed(), 0);
    int64_t start = mtask_now();
    int fds = -1;
    for (long i = testing_scale(120); i > 0 && testing_has_time(start); i--) {
        if (i % 2 == 0)
            (void)serve_once(&random);
        else
            (void)in_loop(serve_once, &random);
        if (fds == -1)
            fds = count_fds();
    }
    ck_assert_int_le(count_fds(), fds + 16); /* threads that wait keep up to eight pipes */
}
END_TEST

/* ---- everything at once ---- */

#define STAGES 3

/* Numbers go through a connection, a pool or a thread, a queue, and a stream; their squares are added
   up. */
typedef struct works {
    int in[2];
    mtask_queue squares;
    mtask_stream *out, *end;
    mtask_pool *pool;
    mtask_mutex lock; /* around what is written to `out`; and guards */
    long written;     /* these */
    mtask_word left;  /* those who read `in` and have not ended */
    mtask_word loops; /* that have begun */
    long count;
    uint64_t seed;
} works;

typedef struct stage {
    works *all;
    testing_random random;
} stage;

static void *square(void *arg) {
    long *number = (long *)arg;
    *number *= *number;
    return NULL;
}

static void *square_late(void *arg) {
    testing_pause((long)((uintptr_t)arg / 64 % 2));
    return square(arg);
}

/* By one of several ways; the one that takes too long is given up. */
static void square_somewhere(stage *self, long *number) {
    mtask_future *future;
    mtask_status status;
    switch (testing_below(&self->random, 8)) {
    case 0:
        ck_assert_status(mtask_offload(square, number, NULL), MTASK_OK);
        return;
    case 1:
        status = mtask_offload_for(square_late, number, sizeof *number, NULL, NULL, MTASK_US(300));
        if (status == MTASK_TIMEOUT)
            (void)square(number);
        else
            ck_assert_status(status, MTASK_OK);
        return;
    case 2:
    case 3:
        ck_assert_status(mtask_pool_submit(self->all->pool, square, number, &future), MTASK_OK);
        ck_assert_status(mtask_future_wait(future, MTASK_FOREVER), MTASK_OK);
        mtask_future_release(future);
        return;
    default:
        (void)square(number);
    }
}

static void *work_on_input(void *arg) {
    stage *self = (stage *)arg;
    works *all = self->all;
    long number;
    mtask_status status;
    while ((status = mtask_io_read(all->in[1], &number, sizeof number, NULL, MTASK_FOREVER)) ==
           MTASK_OK) {
        square_somewhere(self, &number);
        ck_assert_status(mtask_queue_put(&all->squares, &number, MTASK_FOREVER), MTASK_OK);
    }
    ck_assert_status(status, MTASK_CLOSED);
    if (mtask_word_add(&all->left, (mtask_word)-1) == 1)
        ck_assert_status(mtask_queue_close(&all->squares), MTASK_OK);
    return NULL;
}

/* In two writes, which a lock keeps together. */
static void *work_on_squares(void *arg) {
    stage *self = (stage *)arg;
    works *all = self->all;
    long number;
    while (mtask_queue_get(&all->squares, &number, MTASK_FOREVER) == MTASK_OK) {
        MTASK_WITH(&all->lock) {
            ck_assert_status(mtask_stream_printf(all->out, MTASK_FOREVER, "%ld", number), MTASK_OK);
            if (testing_below(&self->random, 16) == 0)
                ck_assert_status(mtask_stream_drain(all->out, MTASK_FOREVER), MTASK_OK);
            ck_assert_status(mtask_stream_write(all->out, "\r\n", 2, MTASK_FOREVER), MTASK_OK);
            if (++all->written == all->count)
                ck_assert_status(mtask_stream_shutdown(all->out, MTASK_FOREVER), MTASK_OK);
        }
    }
    return NULL;
}

static void *add_up(void *arg) {
    works *all = (works *)arg;
    char *text;
    long sum = 0, lines = 0;
    mtask_status status;
    for (; (status = mtask_stream_read_line(all->end, &text, NULL, MTASK_FOREVER)) == MTASK_OK;
         lines++)
        sum += strtol(text, NULL, 10);
    ck_assert_status(status, MTASK_CLOSED);
    ck_assert_int_eq(lines, all->count);
    ck_assert_int_eq(sum, all->count * (all->count + 1) * (2 * all->count + 1) / 6);
    return NULL;
}

/* A stream is used by tasks of one loop. */
static void *work_in_loop(void *arg) {
    works *all = (works *)arg;
    bool first = mtask_word_add(&all->loops, 1) == 0;
    mtask_fn last = first ? work_on_squares : work_on_input;
    stage stages[2 * STAGES];
    mtask_future *tasks[2 * STAGES];
    for (unsigned i = 0; i < 2 * STAGES; i++) {
        stages[i].all = all;
        stages[i].random = testing_random_make(all->seed, i);
        tasks[i] = go(i < STAGES ? work_on_input : last, &stages[i]);
    }
    for (int i = 0; i < 2 * STAGES; i++)
        (void)take(tasks[i]);
    return NULL;
}

static void works_thread(testing_member *self) {
    works *all = (works *)self->arg;
    stage alone = {all, testing_random_make(all->seed, 100)};
    if (self->index < LOOPS)
        (void)in_loop(work_in_loop, all);
    else if (self->index == LOOPS)
        (void)work_on_squares(&alone);
    else if (self->index == LOOPS + 1)
        (void)in_loop(add_up, all);
    else
        for (long i = 1; i <= all->count; i++)
            ck_assert_status(mtask_io_write(all->in[0], &i, sizeof i, NULL, MTASK_FOREVER),
                             MTASK_OK);
    if (self->index == LOOPS + 2)
        end_fd(all->in[0]);
}

START_TEST(with_all_the_rest_of_mtask) {
    works all = {.count = testing_scale(6000), .seed = testing_seed(), .left = 3 * STAGES};
    testing_crowd crowd;
    int ends[2];
    testing_catch_signals();
    testing_check(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, all.in) == 0);
    ck_assert_status(mtask_io_adopt(all.in[0]), MTASK_OK);
    ck_assert_status(mtask_io_adopt(all.in[1]), MTASK_OK);
    make_narrow(all.in[0]);
    open_narrow_pair(ends);
    open_longs(&all.squares, MTASK_FIFO, 4);
    all.pool = open_pool(2);
    ck_assert_status(mtask_stream_open(&all.out, ends[0], NULL), MTASK_OK);
    ck_assert_status(mtask_stream_open(&all.end, ends[1], NULL), MTASK_OK);
    testing_crowd_start(&crowd, LOOPS + 3, works_thread, &all);
    join_in_storm(&crowd);
    end_pool(all.pool);
    mtask_stream_destroy(all.out);
    mtask_stream_destroy(all.end);
    end_fd(all.in[1]);
    ck_assert_status(mtask_queue_deinit(&all.squares), MTASK_OK);
}
END_TEST

TESTING_MAIN("io_stress", connections_come_and_go, closed_from_elsewhere_and_reused_at_once,
             closed_while_threads_sleep_on_it, closed_while_its_reader_lets_others_run,
             a_short_read_need_not_be_the_last, loops_come_and_go_descriptors_stay,
             several_share_a_descriptor, chain_of_proxies, messages_are_not_torn,
             servers_come_and_go, with_all_the_rest_of_mtask)
