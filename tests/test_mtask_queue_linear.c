/* test_mtask_queue_linear.c - does each call take effect at one moment?

   Histories: a few threads make a few calls each on a small queue. A clock that all share counts up
   at the start and at the end of each call. Then a search (Wing and Gong 1993, remembering states
   that led nowhere, as Lowe 2017) looks for an order of the calls that does not contradict the clock
   and in which a queue of the simplest kind would have answered the same. If there is none, then the
   queue was wrong: it said full or empty when it was not, or changed the order.

   Tokens: with as many items as threads, and room for as many, no thread ever finds it empty, or
   full, whatever the others do.

   Mirrors: one thread changes queue A, then looks at B; another changes B, then looks at A. At least
   one of them sees what the other did.

   Games: whoever learns from the queue that it is not needed any more frees it at once, while the
   other is still on its way out of its last call. After the moment at which that took effect, it must
   not touch the queue.

   Standalone: it holds the implementation itself, in which every atomic access may be held up, as if
   the thread had been preempted there. So what can happen between any two of them does happen. */
#define _GNU_SOURCE 1
#define MTASK_IMPLEMENTATION
#include <sched.h>
#include <stdint.h>

/* ---- held up ---- */

/* Of so many atomic accesses, one is held up; 0: none. */
static uint32_t hold_odds;
static __thread uint32_t hold_random = 1;

static __attribute__((noinline)) void hold_now(void) {
    if (hold_random >> 30 == 0) {
        (void)sched_yield();
        return;
    }
    for (volatile uint32_t left = hold_random >> 22; left > 0; left--) {
    }
}

static inline void hold_up(void) {
    uint32_t odds = __atomic_load_n(&hold_odds, __ATOMIC_RELAXED);
    if (odds == 0)
        return;
    hold_random = hold_random * UINT32_C(1664525) + UINT32_C(1013904223);
    if ((hold_random >> 8) % odds == 0)
        hold_now();
}

#define mtask__load(p, order) (hold_up(), __atomic_load_n((p), __ATOMIC_##order))
#define mtask__store(p, v, order)                                                                  \
 (hold_up(), __atomic_store_n((p), (v), __ATOMIC_##order), hold_up())
#define mtask__exchange(p, v, order) (hold_up(), __atomic_exchange_n((p), (v), __ATOMIC_##order))
#define mtask__add(p, v, order)      (hold_up(), __atomic_fetch_add((p), (v), __ATOMIC_##order))
#define mtask__sub(p, v, order)      (hold_up(), __atomic_fetch_sub((p), (v), __ATOMIC_##order))
#define mtask__or(p, v, order)       (hold_up(), __atomic_fetch_or((p), (v), __ATOMIC_##order))
#define mtask__and(p, v, order)      (hold_up(), __atomic_fetch_and((p), (v), __ATOMIC_##order))
#define mtask__cas(p, old, v, order)                                                               \
 (hold_up(),                                                                                       \
  __atomic_compare_exchange_n((p), (old), (v), false, __ATOMIC_##order, __ATOMIC_RELAXED))

#include "testing_threads.h"
#include "../mtask_queue.h"

#include <poll.h>
#include <sys/mman.h>

#define PLAYERS     4 /* at most, as are */
#define CALLS       4 /* of a player in a history */
#define PREFILL     3
#define ITEMS       (PLAYERS * CALLS + PREFILL)
#define STEPS       60 /* no call has more than two, and one for each item it takes */
#define NO_ITEM     0
#define MEMORY_SIZE 1024

/* How often to hold up in the next round; or not at all. */
static uint32_t hold_draw(testing_random *random) {
    static const uint32_t odds[] = {0, 8, 32, 128};
    return odds[testing_below(random, 4)];
}

/* ---- calls ---- */

typedef enum call_kind {
    PUT,
    GET,
    GET_MANY,
    SELECT_PUT, /* a select of one case; checked as */
    SELECT_GET, /* a put and a get */
    PEEK,
    SIZE,
    IS_EMPTY,
    IS_FULL,
    IS_CLOSED,
    CLOSE,
    DISCARD,
    TASK_DONE,
    UNFINISHED,
    JOIN,
    POLL,
    CALL_KINDS
} call_kind;

static const char *const call_names[] = {"put",        "get",        "get_many", "select put",
                                         "select get", "peek",       "size",     "is_empty",
                                         "is_full",    "is_closed",  "close",    "discard",
                                         "task_done",  "unfinished", "join",     "poll"};

/* Items are numbers; odd ones have the higher rank. */
typedef uint64_t number;
MTASK_QUEUE_TYPE(numbers, number);

typedef struct queue_call {
    call_kind kind;
    int player;
    mtask_status status;
    size_t value;        /* what size and others answered; how many get_many wanted */
    size_t moved;        /* how many came out */
    number items[ITEMS]; /* put in, or came out */
    uint64_t began;
    uint64_t ended;
} queue_call;

static int number_compare(const void *a, const void *b, void *ctx) {
    number x, y;
    (void)ctx;
    memcpy(&x, a, sizeof x);
    memcpy(&y, b, sizeof y);
    return (int)(x & 1) - (int)(y & 1);
}

static uint64_t clock_now;

/* ThreadSanitizer must not take the clock for what orders the threads. */
static uint64_t tick(void) {
    return __atomic_fetch_add(&clock_now, 1, TESTING_TSAN ? __ATOMIC_RELAXED : __ATOMIC_SEQ_CST);
}

static void collect(number *item, void *ctx) {
    queue_call *self = (queue_call *)ctx;
    testing_check(self->moved < ITEMS);
    self->items[self->moved++] = *item;
}

/* The calls that move items. */
static void call_move(queue_call *self, numbers *queue) {
    numbers *q = queue;
    mtask_queue_case one;
    switch (self->kind) {
    case PUT:
        self->status = numbers_put(q, self->items[0], MTASK_NOWAIT);
        break;
    case GET:
        self->status = numbers_get(q, &self->items[0], MTASK_NOWAIT);
        self->moved = self->status == MTASK_OK;
        break;
    case GET_MANY:
        self->status = numbers_get_many(q, self->items, self->value, &self->moved, MTASK_NOWAIT);
        break;
    case SELECT_PUT:
        one = numbers_case_put(q, &self->items[0]);
        self->status = mtask_queue_select(&one, 1, NULL, MTASK_NOWAIT);
        break;
    case SELECT_GET:
        one = numbers_case_get(q, &self->items[0]);
        self->status = mtask_queue_select(&one, 1, NULL, MTASK_NOWAIT);
        self->moved = self->status == MTASK_OK;
        break;
    case DISCARD:
        self->status = numbers_discard(q, collect, self, &self->value);
        break;
    default:
        self->status = numbers_peek(q, &self->items[0]);
    }
}

static size_t poll_readable(numbers *queue) {
    struct pollfd watched = {.events = POLLIN};
    ck_assert_status(numbers_pollfd(queue, &watched.fd), MTASK_OK);
    return (size_t)poll(&watched, 1, 0);
}

static void call_make(queue_call *self, numbers *queue) {
    self->moved = 0;
    self->status = MTASK_OK;
    self->began = tick();
    switch (self->kind) {
    case SIZE:
        self->value = numbers_size(queue);
        break;
    case IS_EMPTY:
        self->value = numbers_is_empty(queue);
        break;
    case IS_FULL:
        self->value = numbers_is_full(queue);
        break;
    case IS_CLOSED:
        self->value = numbers_is_closed(queue);
        break;
    case CLOSE:
        self->status = numbers_close(queue);
        break;
    case TASK_DONE:
        self->status = numbers_task_done(queue);
        break;
    case UNFINISHED:
        self->value = numbers_unfinished(queue);
        break;
    case JOIN:
        self->status = numbers_join(queue, MTASK_NOWAIT);
        break;
    case POLL:
        self->value = poll_readable(queue);
        break;
    default:
        call_move(self, queue);
    }
    self->ended = tick();
}

/* ---- the model ---- */

typedef struct queue_model {
    uint64_t made; /* bits of the steps that have been made */
    uint8_t length;
    uint8_t unfinished;
    uint8_t closed;
    uint8_t items[ITEMS]; /* in the order in which they will come out; zero after the last */
} queue_model;

typedef struct queue_setup {
    mtask_queue_kind kind;
    size_t capacity;
    int players;
    const call_kind *mix; /* what is drawn from, */
    size_t mix_size;
    bool counts; /* task_done and the like are among it */
} queue_setup;

static void model_insert(queue_model *self, mtask_queue_kind kind, number item) {
    int at = kind == MTASK_LIFO ? 0 : self->length;
    while (kind == MTASK_PRIORITY && at > 0 && (self->items[at - 1] & 1) > (item & 1))
        at--;
    memmove(self->items + at + 1, self->items + at, (size_t)(self->length - at));
    self->items[at] = (uint8_t)item;
    self->length++;
    self->unfinished++;
}

static void model_remove(queue_model *self, size_t n) {
    self->length = (uint8_t)(self->length - n);
    memmove(self->items, self->items + n, self->length);
    memset(self->items + self->length, 0, n);
}

static bool model_put(queue_model *self, const queue_call *call, const queue_setup *setup) {
    if (self->closed)
        return call->status == MTASK_CLOSED;
    if (self->length >= setup->capacity)
        return call->status == (call->kind == PUT ? MTASK_FULL : MTASK_TIMEOUT);
    if (call->status == MTASK_OK)
        model_insert(self, setup->kind, call->items[0]);
    return call->status == MTASK_OK;
}

/* Whether the first `n` are what came out. */
static bool model_begins(const queue_model *self, const queue_call *call, size_t n) {
    if (call->status != MTASK_OK || call->moved != n)
        return false;
    for (size_t i = 0; i < n; i++)
        if (self->items[i] != call->items[i])
            return false;
    return true;
}

static bool model_get(queue_model *self, const queue_call *call) {
    size_t wanted = call->kind == GET_MANY ? call->value : 1;
    size_t n = wanted < self->length ? wanted : self->length;
    if (n == 0 && self->closed)
        return call->status == MTASK_CLOSED;
    if (n == 0)
        return call->status == (call->kind == SELECT_GET ? MTASK_TIMEOUT : MTASK_EMPTY);
    if (!model_begins(self, call, n))
        return false;
    model_remove(self, n);
    return true;
}

static bool model_peek(const queue_model *self, const queue_call *call) {
    if (self->length == 0)
        return call->status == (self->closed ? MTASK_CLOSED : MTASK_EMPTY);
    return call->status == MTASK_OK && call->items[0] == self->items[0];
}

static bool model_discard(queue_model *self, const queue_call *call) {
    if (call->value != call->moved || !model_begins(self, call, self->length))
        return false;
    model_remove(self, self->length);
    return true;
}

static bool model_task_done(queue_model *self, const queue_call *call) {
    if (self->unfinished == 0)
        return call->status == MTASK_OVERFLOW;
    self->unfinished--;
    return call->status == MTASK_OK;
}

/* Makes the call; whether it could have answered so. */
static bool model_call(queue_model *self, const queue_call *call, const queue_setup *setup) {
    switch (call->kind) {
    case PUT:
    case SELECT_PUT:
        return model_put(self, call, setup);
    case GET:
    case GET_MANY:
    case SELECT_GET:
        return model_get(self, call);
    case PEEK:
        return model_peek(self, call);
    case SIZE:
        return call->value == self->length;
    case IS_EMPTY:
        return call->value == (self->length == 0);
    case IS_FULL:
        return call->value == (self->length == setup->capacity);
    case IS_CLOSED:
        return call->value == self->closed;
    case CLOSE:
        self->closed = 1;
        return call->status == MTASK_OK;
    case DISCARD:
        return model_discard(self, call);
    case TASK_DONE:
        return model_task_done(self, call);
    case UNFINISHED:
        return call->value == self->unfinished;
    case JOIN:
        return call->status == (self->unfinished == 0 ? MTASK_OK : MTASK_TIMEOUT);
    default: /* not readable means empty, and open; readable means nothing */
        return call->value == 1 || (self->length == 0 && !self->closed);
    }
}

/* ---- the search ---- */

/* Most calls have one step: the whole. Some have more, one after the other. */
typedef enum step_kind {
    WHOLE,
    LOOK,  /* how many items there are to take, */
    TAKE,  /* then take them, one by one */
    CREDIT /* count as done what was discarded */
} step_kind;

typedef struct history_step {
    step_kind kind;
    const queue_call *call;
    size_t index; /* of the item that is taken */
} history_step;

static bool step_look(const queue_model *self, const queue_call *call) {
    size_t wanted = call->kind == GET_MANY ? call->value : ITEMS;
    return call->moved == (wanted < self->length ? wanted : self->length);
}

static bool step_take(queue_model *self, const queue_call *call, size_t index) {
    if (self->length == 0 || self->items[0] != call->items[index])
        return false;
    model_remove(self, 1);
    return true;
}

static bool step_credit(queue_model *self, const queue_call *call) {
    self->unfinished = (uint8_t)(self->unfinished - call->value);
    return true;
}

static bool step_make(const history_step *self, queue_model *model, const queue_setup *setup) {
    switch (self->kind) {
    case LOOK:
        return step_look(model, self->call);
    case TAKE:
        return step_take(model, self->call, self->index);
    case CREDIT:
        return step_credit(model, self->call);
    default:
        return model_call(model, self->call, setup);
    }
}

typedef struct call_history {
    const queue_setup *setup;
    queue_model start;
    int count;
    history_step steps[STEPS];
    uint32_t round; /* of what is remembered */
    struct {
        uint32_t round;
        queue_model state; /* nothing leads on from here */
    } memory[MEMORY_SIZE];
} call_history;

/* Where the state is remembered, or should be. */
static unsigned history_place(const queue_model *state) {
    uint32_t hash = 2166136261U;
    unsigned char bytes[sizeof *state];
    memcpy(bytes, state, sizeof bytes);
    for (size_t i = 0; i < sizeof bytes; i++)
        hash = (hash ^ bytes[i]) * 16777619U;
    return (hash ^ hash >> 15) % MEMORY_SIZE;
}

/* Whether the state was remembered; it is from now on. A newer one may take its place: then the
   search takes longer. */
static bool history_knows(call_history *self, const queue_model *state) {
    unsigned at = history_place(state);
    bool known = self->memory[at].round == self->round &&
                 memcmp(&self->memory[at].state, state, sizeof *state) == 0;
    self->memory[at].round = self->round;
    memcpy(&self->memory[at].state, state, sizeof *state);
    return known;
}

static bool is_made(const queue_model *state, int step) {
    return (state->made >> step & 1) != 0;
}

/* Whether the step may be the next one: no other must have ended before it began, and those of the
   same call go before it. */
static bool history_allows(const call_history *self, const queue_model *state, int step,
                           uint64_t limit) {
    const history_step *one = &self->steps[step];
    return !is_made(state, step) && one->call->began <= limit &&
           (step == 0 || one[-1].call != one->call || is_made(state, step - 1));
}

/* Whether the steps that have not been made can be made, in some order, from here on. */
static bool history_search(call_history *self, const queue_model *state) {
    uint64_t limit = UINT64_MAX;
    if (state->made == (UINT64_C(1) << self->count) - 1)
        return true;
    if (history_knows(self, state))
        return false;
    for (int i = 0; i < self->count; i++)
        if (!is_made(state, i) && self->steps[i].call->ended < limit)
            limit = self->steps[i].call->ended;
    for (int i = 0; i < self->count; i++) {
        queue_model next;
        if (!history_allows(self, state, i, limit))
            continue;
        memcpy(&next, state, sizeof next);
        next.made |= UINT64_C(1) << i;
        if (step_make(&self->steps[i], &next, self->setup) && history_search(self, &next))
            return true;
    }
    return false;
}

static void print_call(const queue_call *call) {
    fprintf(stderr, "  %3llu to %3llu  player %d  %s", (unsigned long long)call->began,
            (unsigned long long)call->ended, call->player, call_names[call->kind]);
    if (call->kind == PUT || call->kind == SELECT_PUT)
        fprintf(stderr, " %llu", (unsigned long long)call->items[0]);
    fprintf(stderr, ": %s, value %zu", mtask_status_name(call->status), call->value);
    if (call->kind == PEEK && call->status == MTASK_OK)
        fprintf(stderr, ", item %llu", (unsigned long long)call->items[0]);
    for (size_t i = 0; i < call->moved; i++)
        fprintf(stderr, ", got %llu", (unsigned long long)call->items[i]);
    fputc('\n', stderr);
}

static void history_fail(const call_history *self) {
    const queue_setup *setup = self->setup;
    fprintf(stderr, "kind %d, capacity %zd; at first it held:", (int)setup->kind,
            (ssize_t)setup->capacity);
    for (int i = 0; i < self->start.length; i++)
        fprintf(stderr, " %d", self->start.items[i]);
    fputc('\n', stderr);
    for (int i = 0; i < self->count; i++)
        if (i == 0 || self->steps[i].call != self->steps[i - 1].call)
            print_call(self->steps[i].call);
    _ck_assert_failed(__FILE__, __LINE__, "History", "no order of the calls explains the answers");
}

/* ---- playing ---- */

typedef struct linear_match {
    const queue_setup *setup;
    numbers queue;
    bool open; /* the queue is initialised and was not closed */
    /* of this round and of the next, which players begin while the referee is at work: */
    queue_call calls[2][PLAYERS + 1][CALLS];
    int made[2][PLAYERS]; /* how many calls the player makes */
    uint32_t rounds;      /* at most, */
    int64_t limit;        /* or until this time */
    bool over;
    uint32_t arrivals;
    uint64_t seed;
    call_history history;
} linear_match;

/* All players wait here for each other, for the `meeting`th time. */
static void players_meet(uint32_t *arrivals, int players, uint32_t meeting) {
    (void)__atomic_fetch_add(arrivals, 1, __ATOMIC_ACQ_REL);
    for (int turn = 0; __atomic_load_n(arrivals, __ATOMIC_ACQUIRE) < (uint32_t)players * meeting;
         turn++)
        if (turn > 200)
            sched_yield();
}

static number number_of(int player, int n, testing_random *random) {
    return (number)(player * CALLS + n + 1) * 2 + testing_below(random, 2);
}

/* Draws `player`'s calls of the round; how many. */
static int match_draw_calls(linear_match *self, uint32_t round, int player,
                            testing_random *random) {
    const queue_setup *setup = self->setup;
    int count = 1 + (int)testing_below(random, CALLS);
    for (int n = 0; n < count; n++) {
        queue_call *call = &self->calls[round & 1][player][n];
        call->kind = setup->mix[testing_below(random, setup->mix_size)];
        call->player = player;
        call->value = call->kind == GET_MANY ? 1 + (size_t)testing_below(random, 3) : 0;
        call->items[0] = number_of(player, n, random);
    }
    self->made[round & 1][player] = count;
    return count;
}

static void match_open(linear_match *self) {
    mtask_queue_desc desc;
    if (self->open)
        return;
    memset(&desc, 0, sizeof desc);
    desc.kind = self->setup->kind;
    desc.capacity = self->setup->capacity;
    desc.compare = desc.kind == MTASK_PRIORITY ? number_compare : NULL;
    ck_assert_status(numbers_init_ex(&self->queue, &desc), MTASK_OK);
    self->open = true;
}

/* The referee makes the queue, and puts some items in. */
static void match_begin(linear_match *self, uint32_t round, testing_random *random) {
    call_history *history = &self->history;
    size_t most = self->setup->capacity < PREFILL ? self->setup->capacity : PREFILL;
    int prefill = (int)testing_below(random, most + 1);
    self->over = round == self->rounds || mtask_now() > self->limit;
    match_open(self);
    __atomic_store_n(&clock_now, 0, __ATOMIC_RELAXED);
    memset(&history->start, 0, sizeof history->start);
    for (int n = 0; n < prefill; n++) {
        number item = number_of(PLAYERS, n, random);
        ck_assert_status(numbers_put(&self->queue, item, MTASK_NOWAIT), MTASK_OK);
        model_insert(&history->start, self->setup->kind, item);
    }
}

static void match_add_step(linear_match *self, step_kind kind, const queue_call *call,
                           size_t index) {
    history_step *step = &self->history.steps[self->history.count++];
    testing_check(self->history.count < STEPS);
    step->kind = kind;
    step->call = call;
    step->index = index;
}

/* A bounded FIFO is locked at one end only while items are taken out: puts go on, into the room that
   there is. So to take several has many moments there. */
static void match_add_call(linear_match *self, const queue_call *call) {
    bool takes = call->kind == GET_MANY || call->kind == DISCARD;
    if (self->setup->kind != MTASK_FIFO || self->setup->capacity == MTASK_UNBOUNDED)
        takes = false;
    match_add_step(self, takes && call->moved > 0 ? LOOK : WHOLE, call, 0);
    for (size_t i = 0; takes && i < call->moved; i++)
        match_add_step(self, TAKE, call, i);
    if (call->kind == DISCARD && self->setup->counts)
        match_add_step(self, CREDIT, call, 0);
    if (call->kind == CLOSE)
        self->open = false;
}

/* The referee takes all out that is left, as part of the history. */
static void match_empty(linear_match *self) {
    queue_call *rest = &self->calls[0][PLAYERS][0];
    queue_call *count = &self->calls[0][PLAYERS][1];
    rest->kind = GET_MANY;
    rest->value = ITEMS;
    count->kind = self->setup->counts ? UNFINISHED : SIZE;
    rest->player = count->player = PLAYERS;
    call_make(rest, &self->queue);
    call_make(count, &self->queue);
    match_add_call(self, rest);
    match_add_call(self, count);
    while (self->setup->counts && numbers_task_done(&self->queue) == MTASK_OK) {
    }
}

static void match_end(linear_match *self, uint32_t round) {
    call_history *history = &self->history;
    history->count = 0;
    history->round++;
    history->setup = self->setup;
    for (int player = 0; player < self->setup->players; player++)
        for (int n = 0; n < self->made[round & 1][player]; n++)
            match_add_call(self, &self->calls[round & 1][player][n]);
    match_empty(self);
    if (!history_search(history, &history->start))
        history_fail(history);
    if (!self->open)
        ck_assert_status(numbers_deinit(&self->queue), MTASK_OK);
}

static void match_play(testing_member *member) {
    linear_match *self = (linear_match *)member->arg;
    testing_random random = testing_random_make(self->seed, (unsigned)member->index + 1);
    int players = self->setup->players;
    hold_random = (uint32_t)testing_next(&random);
    if (players == 2)
        testing_game_spread(member->index);
    for (uint32_t round = 0;; round++) {
        uint64_t pace = testing_below(&random, 4) == 0 ? 200 : 8;
        int count = match_draw_calls(self, round, member->index, &random);
        if (member->index == 0)
            match_begin(self, round, &random);
        players_meet(&self->arrivals, players, 2 * round + 1);
        if (self->over)
            return;
        for (int n = 0; n < count; n++) {
            testing_dawdle(&random, pace);
            call_make(&self->calls[round & 1][member->index][n], &self->queue);
        }
        players_meet(&self->arrivals, players, 2 * round + 2);
        if (member->index == 0)
            match_end(self, round);
    }
}

static void run_match(const queue_setup *setup, uint64_t seed) {
    static linear_match match;
    testing_crowd crowd;
    match.setup = setup;
    match.seed = seed;
    match.rounds = (uint32_t)testing_scale(setup->players == 2 ? 1000 : 200);
    match.limit = mtask_now() + MTASK_MS(150);
    match.arrivals = 0;
    testing_crowd_start(&crowd, setup->players, match_play, &match);
    testing_crowd_join(&crowd);
    if (match.open)
        ck_assert_status(numbers_deinit(&match.queue), MTASK_OK);
    match.open = false;
}

/* ---- histories ---- */

#define MIX(...)                                                                                   \
 { __VA_ARGS__ }

/* Plays matches with calls of a mix for half a second, with queues of `kind`, or of each kind
   (-1). */
static void run_matches(int kind, const call_kind *mix, size_t mix_size, bool counts) {
    static const size_t capacities[] = {1, 2, 3, 1, 2, MTASK_UNBOUNDED};
    uint64_t seed = testing_seed();
    testing_random random = testing_random_make(seed, 0);
    int64_t start = mtask_now();
    for (int round = 0; round < 4 || mtask_now() - start < MTASK_MS(500); round++) {
        queue_setup setup = {.mix = mix, .mix_size = mix_size, .counts = counts};
        setup.kind = (mtask_queue_kind)(kind >= 0 ? kind : (int)testing_below(&random, 3));
        setup.capacity = capacities[testing_below(&random, 6)];
        setup.players = 2 + round % 3;
        hold_odds = hold_draw(&random);
        run_match(&setup, testing_next(&random));
    }
    hold_odds = 0;
}

static const call_kind plain_mix[] =
    MIX(PUT, PUT, PUT, GET, GET, GET, SIZE, IS_EMPTY, IS_FULL, PEEK);

START_TEST(fifo_answers_as_if_calls_came_one_by_one) {
    run_matches(MTASK_FIFO, plain_mix, sizeof plain_mix / sizeof plain_mix[0], false);
}
END_TEST

START_TEST(lifo_answers_as_if_calls_came_one_by_one) {
    run_matches(MTASK_LIFO, plain_mix, sizeof plain_mix / sizeof plain_mix[0], false);
}
END_TEST

START_TEST(priority_answers_as_if_calls_came_one_by_one) {
    run_matches(MTASK_PRIORITY, plain_mix, sizeof plain_mix / sizeof plain_mix[0], false);
}
END_TEST

START_TEST(a_batch_is_what_there_was) {
    static const call_kind mix[] = MIX(PUT, PUT, PUT, GET, GET_MANY, GET_MANY, DISCARD);
    run_matches(-1, mix, sizeof mix / sizeof mix[0], false);
}
END_TEST

START_TEST(select_of_one_is_as_good_as_put_and_get) {
    static const call_kind mix[] = MIX(PUT, GET, SELECT_PUT, SELECT_PUT, SELECT_GET, SELECT_GET);
    run_matches(-1, mix, sizeof mix / sizeof mix[0], false);
}
END_TEST

START_TEST(close_takes_effect_at_one_moment) {
    static const call_kind mix[] =
        MIX(PUT, PUT, PUT, GET, GET, GET, CLOSE, IS_CLOSED, PEEK, SELECT_PUT, SELECT_GET, DISCARD);
    run_matches(-1, mix, sizeof mix / sizeof mix[0], false);
}
END_TEST

START_TEST(what_was_put_before_close_comes_out_before_closed) {
    static const call_kind mix[] = MIX(PUT, CLOSE, GET, GET, PEEK);
    run_matches(MTASK_FIFO, mix, sizeof mix / sizeof mix[0], false);
}
END_TEST

START_TEST(task_done_counts_at_one_moment) {
    static const call_kind mix[] = MIX(PUT, PUT, GET, TASK_DONE, TASK_DONE, UNFINISHED, JOIN);
    run_matches(-1, mix, sizeof mix / sizeof mix[0], true);
}
END_TEST

START_TEST(discard_takes_out_and_then_counts_as_done) {
    static const call_kind mix[] = MIX(PUT, PUT, PUT, GET, UNFINISHED, JOIN, DISCARD, DISCARD);
    run_matches(-1, mix, sizeof mix / sizeof mix[0], true);
}
END_TEST

START_TEST(not_readable_means_empty_and_open) {
    static const call_kind mix[] =
        MIX(PUT, PUT, PUT, GET, GET, GET, POLL, POLL, POLL, GET_MANY, CLOSE);
    run_matches(-1, mix, sizeof mix / sizeof mix[0], false);
}
END_TEST

/* ---- tokens ---- */

typedef struct token_game {
    numbers queue;
    int players; /* and tokens, and room for tokens */
    int64_t start;
    uint64_t seed;
} token_game;

/* With no token in hand, there is at least one in the queue. */
static void token_take(token_game *self, testing_random *random) {
    number token;
    mtask_queue_case one = numbers_case_get(&self->queue, &token);
    size_t fired = 1;
    switch (testing_below(random, 8)) {
    case 0:
        testing_check(!numbers_is_empty(&self->queue));
        break;
    case 1:
        testing_check(numbers_size(&self->queue) - 1 < (size_t)self->players);
        break;
    case 2:
        ck_assert_status(numbers_peek(&self->queue, &token), MTASK_OK);
        break;
    case 3:
        ck_assert_status(mtask_queue_select(&one, 1, &fired, MTASK_NOWAIT), MTASK_OK);
        testing_check(fired == 0);
        return;
    default:
        break;
    }
    ck_assert_status(numbers_get(&self->queue, &token, MTASK_NOWAIT), MTASK_OK);
}

/* With one in hand, there is room for it. */
static void token_give(token_game *self, testing_random *random) {
    number token = testing_below(random, 100);
    mtask_queue_case one = numbers_case_put(&self->queue, &token);
    size_t moved = 0;
    switch (testing_below(random, 8)) {
    case 0:
        testing_check(!numbers_is_full(&self->queue));
        break;
    case 1:
        testing_check(numbers_size(&self->queue) < (size_t)self->players);
        break;
    case 2:
        ck_assert_status(numbers_put_many(&self->queue, &token, 1, &moved, MTASK_NOWAIT), MTASK_OK);
        testing_check(moved == 1);
        return;
    case 3:
        ck_assert_status(mtask_queue_select(&one, 1, NULL, MTASK_NOWAIT), MTASK_OK);
        return;
    default:
        break;
    }
    ck_assert_status(numbers_put(&self->queue, token, MTASK_NOWAIT), MTASK_OK);
}

static void token_play(testing_member *member) {
    token_game *self = (token_game *)member->arg;
    testing_random random = testing_random_make(self->seed, (unsigned)member->index + 1);
    hold_random = (uint32_t)testing_next(&random);
    while (mtask_now() - self->start < MTASK_MS(80))
        for (int i = 0; i < 100; i++) {
            token_take(self, &random);
            testing_dawdle(&random, 16);
            token_give(self, &random);
        }
}

static void play_tokens(mtask_queue_kind kind, int players, bool bounded) {
    static token_game game;
    testing_crowd crowd;
    mtask_queue_desc desc = {.kind = kind};
    desc.capacity = bounded ? (size_t)players : MTASK_UNBOUNDED;
    desc.compare = kind == MTASK_PRIORITY ? number_compare : NULL;
    ck_assert_status(numbers_init_ex(&game.queue, &desc), MTASK_OK);
    game.players = players;
    game.seed = testing_seed();
    for (int i = 0; i < players; i++)
        ck_assert_status(numbers_put(&game.queue, (number)i, MTASK_NOWAIT), MTASK_OK);
    game.start = mtask_now();
    testing_crowd_start(&crowd, players, token_play, &game);
    testing_crowd_join(&crowd);
    ck_assert_uint_eq(numbers_size(&game.queue), (size_t)players);
    ck_assert_status(numbers_deinit(&game.queue), MTASK_OK);
}

START_TEST(nobody_finds_it_empty_or_full_that_is_not) {
    static const int players[] = {1, 2, 3, 5, 8};
    for (size_t i = 0; i < sizeof players / sizeof players[0]; i++)
        for (int kind = MTASK_FIFO; kind <= MTASK_PRIORITY; kind++)
            play_tokens((mtask_queue_kind)kind, players[i], true);
    play_tokens(MTASK_FIFO, 3, false);
    hold_odds = 20;
    for (int kind = MTASK_FIFO; kind <= MTASK_PRIORITY; kind++)
        play_tokens((mtask_queue_kind)kind, 3, true);
}
END_TEST

/* ---- mirrors ---- */

/* What each of the two does to its own queue, and how it looks for the same at the other's. */
typedef struct mirror_game {
    mtask_queue_kind kind;
    void (*set)(numbers *queue);     /* before each round */
    void (*act)(numbers *queue);     /* the first step of both players, */
    bool (*saw_not)(numbers *queue); /* and the second: whether the act has not been seen */
    numbers queues[2];
    bool blind[2];
    uint32_t arrivals;
    int64_t start;
    bool over;
} mirror_game;

static void mirror_play(testing_member *member) {
    mirror_game *self = (mirror_game *)member->arg;
    int me = member->index;
    testing_game_spread(me);
    for (uint32_t round = 0;; round++) {
        if (me == 0)
            self->over = mtask_now() - self->start > MTASK_MS(40);
        self->set(&self->queues[me]);
        players_meet(&self->arrivals, 2, 2 * round + 1);
        if (self->over)
            return;
        self->act(&self->queues[me]);
        self->blind[me] = self->saw_not(&self->queues[1 - me]);
        players_meet(&self->arrivals, 2, 2 * round + 2);
        testing_check(!(self->blind[0] && self->blind[1]));
    }
}

static void play_mirrors(void (*set)(numbers *queue), void (*act)(numbers *queue),
                         bool (*saw_not)(numbers *queue)) {
    for (int kind = MTASK_FIFO; kind <= MTASK_PRIORITY; kind++) {
        static mirror_game game;
        testing_crowd crowd;
        mtask_queue_desc desc = {.kind = (mtask_queue_kind)kind, .capacity = 1};
        desc.compare = kind == MTASK_PRIORITY ? number_compare : NULL;
        game.set = set;
        game.act = act;
        game.saw_not = saw_not;
        game.arrivals = 0;
        game.start = mtask_now();
        for (int i = 0; i < 2; i++)
            ck_assert_status(numbers_init_ex(&game.queues[i], &desc), MTASK_OK);
        testing_crowd_start(&crowd, 2, mirror_play, &game);
        testing_crowd_join(&crowd);
        for (int i = 0; i < 2; i++)
            ck_assert_status(numbers_deinit(&game.queues[i]), MTASK_OK);
    }
}

static void mirror_empty(numbers *queue) {
    number item;
    while (numbers_get(queue, &item, MTASK_NOWAIT) == MTASK_OK) {
    }
    while (numbers_task_done(queue) == MTASK_OK) {
    }
}

static void mirror_fill(numbers *queue) {
    mirror_empty(queue);
    ck_assert_status(numbers_put(queue, 1, MTASK_NOWAIT), MTASK_OK);
}

static void mirror_put(numbers *queue) {
    ck_assert_status(numbers_put(queue, 1, MTASK_NOWAIT), MTASK_OK);
}

static void mirror_get(numbers *queue) {
    number item;
    ck_assert_status(numbers_get(queue, &item, MTASK_NOWAIT), MTASK_OK);
}

static void mirror_task_done(numbers *queue) {
    ck_assert_status(numbers_task_done(queue), MTASK_OK);
}

static bool sees_no_item(numbers *queue) {
    number item;
    return numbers_peek(queue, &item) == MTASK_EMPTY;
}

static bool gets_no_item(numbers *queue) {
    number item;
    return numbers_get(queue, &item, MTASK_NOWAIT) == MTASK_EMPTY;
}

static bool selects_no_item(numbers *queue) {
    number item;
    mtask_queue_case one = numbers_case_get(queue, &item);
    return mtask_queue_select(&one, 1, NULL, MTASK_NOWAIT) == MTASK_TIMEOUT;
}

static bool is_empty(numbers *queue) {
    return numbers_is_empty(queue);
}

static bool has_size_0(numbers *queue) {
    return numbers_size(queue) == 0;
}

static bool has_nothing_to_do(numbers *queue) {
    return numbers_unfinished(queue) == 0;
}

static bool joins(numbers *queue) {
    return numbers_join(queue, MTASK_NOWAIT) == MTASK_OK;
}

static bool puts_no_item(numbers *queue) {
    return numbers_put(queue, 2, MTASK_NOWAIT) == MTASK_FULL;
}

static bool is_full(numbers *queue) {
    return numbers_is_full(queue);
}

static bool has_size_1(numbers *queue) {
    return numbers_size(queue) == 1;
}

static bool has_work(numbers *queue) {
    return numbers_unfinished(queue) == 1;
}

static bool does_not_join(numbers *queue) {
    return numbers_join(queue, MTASK_NOWAIT) == MTASK_TIMEOUT;
}

START_TEST(of_two_who_put_one_gets_the_other_item) {
    play_mirrors(mirror_empty, mirror_put, gets_no_item);
    play_mirrors(mirror_empty, mirror_put, selects_no_item);
    play_mirrors(mirror_empty, mirror_put, sees_no_item);
}
END_TEST

START_TEST(of_two_who_put_one_sees_that_the_other_is_not_empty) {
    play_mirrors(mirror_empty, mirror_put, is_empty);
    play_mirrors(mirror_empty, mirror_put, has_size_0);
}
END_TEST

START_TEST(of_two_who_put_one_sees_that_the_other_is_not_done) {
    play_mirrors(mirror_empty, mirror_put, has_nothing_to_do);
    play_mirrors(mirror_empty, mirror_put, joins);
}
END_TEST

START_TEST(of_two_who_get_one_finds_room_in_the_other) {
    play_mirrors(mirror_fill, mirror_get, puts_no_item);
    play_mirrors(mirror_fill, mirror_get, is_full);
    play_mirrors(mirror_fill, mirror_get, has_size_1);
}
END_TEST

START_TEST(of_two_who_are_done_one_sees_that_the_other_is) {
    play_mirrors(mirror_fill, mirror_task_done, has_work);
    play_mirrors(mirror_fill, mirror_task_done, does_not_join);
}
END_TEST

/* ---- a queue that is freed by whoever learns from it that it is not needed any more ---- */

#define PAGES     64
#define PAGE_SIZE ((size_t)4096)

/* The queue of a round: in the heap, where the sanitizers look, or in a page that cannot be touched
   until its next turn. */
typedef struct stage {
    mtask_queue *queue;
    void *page; /* NULL: in the heap */
    mtask_queue own;
} stage;

static unsigned char *pages; /* NULL: use the heap */
static unsigned page_turn;

static void stage_init(void *object) {
    stage *self = (stage *)object;
    mtask_queue_desc desc = {.capacity = 1, .item_size = sizeof(uint64_t)};
    self->queue = &self->own;
    if (pages != NULL) {
        self->page = pages + page_turn++ % PAGES * PAGE_SIZE;
        testing_check(mprotect(self->page, PAGE_SIZE, PROT_READ | PROT_WRITE) == 0);
        self->queue = (mtask_queue *)self->page;
        desc.storage = (unsigned char *)self->page + PAGE_SIZE / 4;
        desc.storage_size = PAGE_SIZE * 3 / 4;
    }
    ck_assert_status(mtask_queue_init(self->queue, &desc), MTASK_OK);
}

static void stage_put(stage *self) {
    uint64_t item = 42;
    ck_assert_status(mtask_queue_put(self->queue, &item, MTASK_FOREVER), MTASK_OK);
}

static void stage_init_full(void *object) {
    stage_init(object);
    stage_put((stage *)object);
}

static void stage_init_taken(void *object) {
    uint64_t item;
    stage_init_full(object);
    ck_assert_status(mtask_queue_get(((stage *)object)->queue, &item, MTASK_NOWAIT), MTASK_OK);
}

static bool stage_end(stage *self) {
    ck_assert_status(mtask_queue_deinit(self->queue), MTASK_OK);
    if (self->page != NULL)
        testing_check(mprotect(self->page, PAGE_SIZE, PROT_NONE) == 0);
    return true;
}

/* Returns when the descriptor is readable. */
static void stage_poll(stage *self) {
    struct pollfd watched = {.events = POLLIN};
    ck_assert_status(mtask_queue_pollfd(self->queue, &watched.fd), MTASK_OK);
    testing_check(poll(&watched, 1, -1) == 1);
}

/* One try at what `op` says, in the way that `draw` says. */
static mtask_status stage_try(stage *self, mtask_queue_op op, uint64_t draw) {
    int64_t timeout = draw == 0 ? MTASK_NOWAIT : draw == 1 ? 2000 : MTASK_FOREVER;
    uint64_t item = 43;
    size_t moved;
    mtask_queue_case one = {.queue = self->queue, .op = op, .item = &item};
    if (draw == 3)
        return mtask_queue_select(&one, 1, NULL, timeout);
    if (draw == 4 && op == MTASK_GET) {
        stage_poll(self);
        timeout = MTASK_NOWAIT;
    }
    if (op == MTASK_PUT)
        return mtask_queue_put(self->queue, &item, timeout);
    return mtask_queue_get_many(self->queue, &item, 1, &moved, timeout);
}

enum { PLAIN_WAYS = 3, ALL_WAYS = 5 };

/* Does what `op` says, waiting in one way or another until it is done. */
static void stage_await(stage *self, mtask_queue_op op, unsigned ways, testing_random *random) {
    uint64_t draw = testing_below(random, ways);
    mtask_status status;
    do
        status = stage_try(self, op, draw);
    while (status == MTASK_EMPTY || status == MTASK_FULL);
    testing_check(status == MTASK_OK || status == MTASK_CLOSED);
}

static bool play_put_get(void *object, int player, testing_random *random) {
    stage *self = (stage *)object;
    if (player == 1) {
        stage_put(self);
        return false;
    }
    stage_await(self, MTASK_GET, ALL_WAYS, random);
    return stage_end(self);
}

static bool play_get_put(void *object, int player, testing_random *random) {
    stage *self = (stage *)object;
    uint64_t item;
    if (player == 1) {
        ck_assert_status(mtask_queue_get(self->queue, &item, MTASK_FOREVER), MTASK_OK);
        return false;
    }
    stage_await(self, MTASK_PUT, ALL_WAYS, random);
    return stage_end(self);
}

/* The other player may have slept before its put: then it wakes others, too. */
static bool play_wait_put(void *object, int player, testing_random *random) {
    stage *self = (stage *)object;
    if (player == 1) {
        stage_await(self, MTASK_PUT, PLAIN_WAYS, random);
        return false;
    }
    stage_await(self, MTASK_GET, ALL_WAYS, random);
    stage_await(self, MTASK_GET, ALL_WAYS, random);
    return stage_end(self);
}

static bool play_wait_get(void *object, int player, testing_random *random) {
    stage *self = (stage *)object;
    if (player == 1) {
        stage_await(self, MTASK_GET, PLAIN_WAYS, random);
        return false;
    }
    stage_await(self, MTASK_PUT, ALL_WAYS, random);
    stage_await(self, MTASK_PUT, ALL_WAYS, random);
    return stage_end(self);
}

static bool play_done_join(void *object, int player, testing_random *random) {
    stage *self = (stage *)object;
    bool impatient = testing_below(random, 2) == 0;
    if (player == 1) {
        ck_assert_status(mtask_queue_task_done(self->queue), MTASK_OK);
        return false;
    }
    while (mtask_queue_join(self->queue, impatient ? MTASK_NOWAIT : MTASK_FOREVER) != MTASK_OK) {
    }
    return stage_end(self);
}

static bool play_close_get(void *object, int player, testing_random *random) {
    stage *self = (stage *)object;
    if (player == 1) {
        ck_assert_status(mtask_queue_close(self->queue), MTASK_OK);
        return false;
    }
    stage_await(self, MTASK_GET, ALL_WAYS, random);
    return stage_end(self);
}

static bool play_close_put(void *object, int player, testing_random *random) {
    stage *self = (stage *)object;
    if (player == 1) {
        ck_assert_status(mtask_queue_close(self->queue), MTASK_OK);
        return false;
    }
    stage_await(self, MTASK_PUT, ALL_WAYS, random);
    return stage_end(self);
}

/* Plays with queues in the heap, then with queues in pages. */
static void play_both(void (*init)(void *object), testing_play_fn play) {
    pages = NULL;
    hold_odds = 20;
    testing_play(sizeof(stage), init, play);
    pages = (unsigned char *)mmap(NULL, PAGES * PAGE_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS,
                                  -1, 0);
    testing_check(pages != MAP_FAILED);
    testing_play(sizeof(stage), init, play);
    testing_check(munmap(pages, PAGES * PAGE_SIZE) == 0);
}

START_TEST(whoever_got_the_last_item_may_free_the_queue) {
    play_both(stage_init, play_put_get);
    play_both(stage_init_full, play_wait_put);
}
END_TEST

START_TEST(whoever_was_given_room_may_free_the_queue) {
    play_both(stage_init_full, play_get_put);
    play_both(stage_init, play_wait_get);
}
END_TEST

START_TEST(whoever_joined_may_free_the_queue) {
    play_both(stage_init_taken, play_done_join);
}
END_TEST

START_TEST(whoever_could_not_get_since_it_is_closed_may_free_the_queue) {
    play_both(stage_init, play_close_get);
}
END_TEST

START_TEST(whoever_could_not_put_since_it_is_closed_may_free_the_queue) {
    play_both(stage_init_full, play_close_put);
}
END_TEST

TESTING_MAIN("queue_linear", fifo_answers_as_if_calls_came_one_by_one,
             lifo_answers_as_if_calls_came_one_by_one, priority_answers_as_if_calls_came_one_by_one,
             a_batch_is_what_there_was, select_of_one_is_as_good_as_put_and_get,
             close_takes_effect_at_one_moment, what_was_put_before_close_comes_out_before_closed,
             task_done_counts_at_one_moment, discard_takes_out_and_then_counts_as_done,
             not_readable_means_empty_and_open, nobody_finds_it_empty_or_full_that_is_not,
             of_two_who_put_one_gets_the_other_item,
             of_two_who_put_one_sees_that_the_other_is_not_empty,
             of_two_who_put_one_sees_that_the_other_is_not_done,
             of_two_who_get_one_finds_room_in_the_other,
             of_two_who_are_done_one_sees_that_the_other_is,
             whoever_got_the_last_item_may_free_the_queue,
             whoever_was_given_room_may_free_the_queue, whoever_joined_may_free_the_queue,
             whoever_could_not_get_since_it_is_closed_may_free_the_queue,
             whoever_could_not_put_since_it_is_closed_may_free_the_queue)
