/* test_mtask_queue_stress.c - crowds of producers and consumers; closes, discards and selects

   An arena is one run: up to three queues, threads that put and threads that get in all ways that
   there are, and troublemakers who join, discard and close at random moments. Each item says who
   put it and when, and the rest of it is made from that: so whoever takes it out sees whether it is
   whole, whether somebody else had it before, and whether its order is right. Counters are relaxed
   and what the threads share is little: the test orders nothing for the queue. */
#include "testing_threads.h"
#include "../mtask_queue.h"

#include <poll.h>

#define PRODUCERS 8 /* at most, as are */
#define LANES     3
#define BATCH     16
#define RANKS     4 /* priorities */
#define ITEM_SIZE 24

#define ADD(counter, n)    ((void)__atomic_fetch_add((counter), (n), __ATOMIC_RELAXED))
#define READ(variable)     __atomic_load_n((variable), __ATOMIC_ACQUIRE)
#define WRITE(variable, v) __atomic_store_n((variable), (v), __ATOMIC_RELEASE)

/* ---- items ---- */

#define SERIAL_BITS  24
#define LABEL(p, s)  ((uint32_t)(p) << SERIAL_BITS | (s))
#define SERIAL(l)    ((l) & ((UINT32_C(1) << SERIAL_BITS) - 1))
#define PRODUCER(l)  ((l) >> SERIAL_BITS)
#define RANK(l)      ((l)*UINT32_C(2654435761) >> 30)
#define NO_SUCH_ITEM UINT32_MAX

/* Byte `at` of an item with this label. */
static unsigned char item_byte(uint32_t label, size_t at) {
    return (unsigned char)((label * UINT32_C(0x85ebca6b) >> (at % 4 * 8)) + at);
}

static void item_make(unsigned char *item, size_t size, uint32_t label) {
    memcpy(item, &label, sizeof label);
    for (size_t at = sizeof label; at < size; at++)
        item[at] = item_byte(label, at);
}

static uint32_t item_label(const void *item) {
    uint32_t label;
    memcpy(&label, item, sizeof label);
    return label;
}

/* The label of an item; NO_SUCH_ITEM if it is torn. */
static uint32_t item_read(const unsigned char *item, size_t size) {
    uint32_t label = item_label(item);
    for (size_t at = sizeof label; at < size; at++)
        if (item[at] != item_byte(label, at))
            return NO_SUCH_ITEM;
    return label;
}

static int compare_context;

static int item_compare(const void *a, const void *b, void *ctx) {
    testing_check(ctx == &compare_context);
    return (int)RANK(item_label(a)) - (int)RANK(item_label(b));
}

/* ---- what order one consumer of one queue may see ---- */

typedef struct item_order {
    uint32_t next[PRODUCERS][RANKS]; /* FIFO and PRIORITY: serials below came out before this one */
    uint32_t below[PRODUCERS]; /* while nobody puts, LIFO: those from here on came out before, */
    uint32_t rank;             /* and PRIORITY: these came out after all lesser ranks */
    bool calm;                 /* nobody puts */
} item_order;

/* Nobody puts from here on, for ever or for a batch: only if `calm`, what came out before counts. */
static void order_begin(item_order *self, bool calm) {
    if (!calm || !self->calm) {
        memset(self->below, 0xff, sizeof self->below);
        self->rank = 0;
    }
    self->calm = calm;
}

/* Whether the item may come out now, after those since order_begin. */
static bool order_allows(item_order *self, mtask_queue_kind kind, uint32_t label) {
    uint32_t producer = PRODUCER(label), serial = SERIAL(label), rank = RANK(label);
    uint32_t *next = &self->next[producer][kind == MTASK_PRIORITY ? rank : 0];
    bool allowed = serial >= *next;
    *next = serial + 1;
    if (kind == MTASK_LIFO)
        allowed = serial < self->below[producer];
    if (kind == MTASK_PRIORITY)
        allowed = allowed && rank >= self->rank;
    self->below[producer] = serial;
    self->rank = rank;
    return allowed;
}

/* ---- the arena ---- */

/* Ways to put and get, or-ed together. */
enum { ONE = 1, MANY = 2, SELECT = 4, POLL = 8 };

typedef struct crowd_plan {
    mtask_queue_kind kind;
    size_t capacity;
    size_t item_size;
    int lanes;
    int producers;
    int consumers; /* at least one for each lane */
    uint32_t each; /* items of a producer */
    unsigned put_ways;
    unsigned get_ways;
    bool storage; /* the queue lies in storage of the test's, */
    bool shared;  /* as one that processes share */
    bool joins;   /* there is a thread that joins, */
    bool discards;
    bool closes; /* before the producers are done */
} crowd_plan;

/* A queue, and what the test knows of it. */
typedef struct crowd_lane {
    mtask_queue queue;
    void *storage;
    int fd;            /* of pollfd; -1 until somebody asked */
    uint32_t put;      /* items whose put has returned */
    uint32_t finished; /* items whose task_done is about to be called, or that were discarded */
    bool closing;      /* close is about to be called */
    bool closed;       /* it has returned */
    bool drained;      /* a get has answered MTASK_CLOSED */
} crowd_lane;

typedef struct crowd_arena {
    crowd_plan plan;
    uint64_t seed;
    crowd_lane lanes[LANES];
    uint32_t producing;           /* producers that are not done */
    uint32_t accepted[PRODUCERS]; /* items of each producer that were put */
    unsigned char *seen;          /* for each item: it came out */
} crowd_arena;

/* One thread of it. */
typedef struct crowd_actor {
    crowd_arena *arena;
    testing_random random;
    int index; /* among those who do the same */
    uint32_t serial;
    bool gone[LANES];     /* closed, as far as this thread goes */
    uint32_t owed[LANES]; /* items taken, and no task_done called */
    item_order orders[LANES];
    unsigned char items[BATCH * ITEM_SIZE];
} crowd_actor;

static void arena_fail(const crowd_arena *self, const char *what, int line) {
    const crowd_plan *p = &self->plan;
    char text[512];
    int length = snprintf(text, sizeof text,
                          "%s; kind %d, capacity %zd, items of %zu bytes, %d lanes, %d producers "
                          "of %u, %d consumers, "
                          "put ways %u, get ways %u,%s%s%s%s",
                          what, (int)p->kind, (ssize_t)p->capacity, p->item_size, p->lanes,
                          p->producers, p->each, p->consumers, p->put_ways, p->get_ways,
                          p->shared    ? " shared"
                          : p->storage ? " storage"
                                       : "",
                          p->joins ? " joins" : "", p->discards ? " discards" : "",
                          p->closes ? " closes" : "");
    for (int i = 0; i < p->lanes && length < (int)sizeof text; i++)
        length +=
            snprintf(text + length, sizeof text - (size_t)length, "; lane %d: %u put, %u done%s", i,
                     READ(&self->lanes[i].put), READ(&self->lanes[i].finished),
                     READ(&self->lanes[i].closed) ? ", closed" : "");
    _ck_assert_failed(__FILE__, line, "Arena", "%s", text);
}

/* As testing_check, but tells what the plan was. */
#define arena_check(self, condition)                                                               \
 ((condition) ? (void)0 : arena_fail((self), #condition, __LINE__))

/* Makes the queue; a private one where there is no shared memory. */
static void stress_init(mtask_queue *queue, mtask_queue_desc desc) {
    mtask_status status = mtask_queue_init(queue, &desc);
    if (status == MTASK_UNSUPPORTED && desc.flags == MTASK_SHARED) {
        desc.flags = MTASK_PRIVATE;
        status = mtask_queue_init(queue, &desc);
    }
    ck_assert_status(status, MTASK_OK);
}

static void lane_init(crowd_lane *self, const crowd_plan *plan) {
    mtask_queue_desc desc;
    memset(&desc, 0, sizeof desc);
    memset(self, 0, sizeof *self);
    desc.kind = plan->kind;
    desc.capacity = plan->capacity;
    desc.item_size = plan->item_size;
    desc.compare = plan->kind == MTASK_PRIORITY ? item_compare : NULL;
    desc.compare_ctx = plan->kind == MTASK_PRIORITY ? &compare_context : NULL;
    if (plan->storage && plan->capacity != MTASK_UNBOUNDED) {
        desc.flags = plan->shared ? MTASK_SHARED : MTASK_PRIVATE;
        desc.storage_size = mtask_queue_storage_size(&desc);
        testing_check(posix_memalign(&self->storage, MTASK_QUEUE_ALIGN, desc.storage_size) == 0);
        desc.storage = self->storage;
    }
    stress_init(&self->queue, desc);
    self->fd = -1;
}

/* What must be so when everybody has left. */
static void lane_check_end(crowd_lane *self, const crowd_arena *arena) {
    unsigned char item[ITEM_SIZE] = {0};
    arena_check(arena, mtask_queue_size(&self->queue) == 0);
    arena_check(arena, mtask_queue_is_empty(&self->queue));
    arena_check(arena, !mtask_queue_is_full(&self->queue));
    arena_check(arena, mtask_queue_unfinished(&self->queue) == 0);
    arena_check(arena, self->put == self->finished);
    ck_assert_status(mtask_queue_join(&self->queue, MTASK_NOWAIT), MTASK_OK);
    ck_assert_status(mtask_queue_task_done(&self->queue), MTASK_OVERFLOW);
    ck_assert_status(mtask_queue_peek(&self->queue, item), MTASK_CLOSED);
    ck_assert_status(mtask_queue_get(&self->queue, item, MTASK_NOWAIT), MTASK_CLOSED);
    ck_assert_status(mtask_queue_put(&self->queue, item, MTASK_NOWAIT), MTASK_CLOSED);
}

static void lane_deinit(crowd_lane *self) {
    ck_assert_status(mtask_queue_deinit(&self->queue), MTASK_OK);
    free(self->storage);
}

static void lane_close(crowd_lane *self) {
    WRITE(&self->closing, true);
    ck_assert_status(mtask_queue_close(&self->queue), MTASK_OK);
    WRITE(&self->closed, true);
}

static bool arena_is_closed(const crowd_arena *self) {
    for (int i = 0; i < self->plan.lanes; i++)
        if (!READ(&self->lanes[i].closed))
            return false;
    return true;
}

/* ---- actors ---- */

static void actor_init(crowd_actor *self, crowd_arena *arena, int member, int index) {
    memset(self, 0, sizeof *self);
    self->arena = arena;
    self->index = index;
    self->random = testing_random_make(arena->seed, (unsigned)member + 1);
}

static uint64_t actor_draw(crowd_actor *self, uint64_t limit) {
    return testing_below(&self->random, limit);
}

/* A random timeout: none, next to none, or endless. */
static int64_t actor_timeout(crowd_actor *self) {
    uint64_t draw = actor_draw(self, 4);
    if (draw == 0)
        return MTASK_NOWAIT;
    return draw == 1 ? (int64_t)actor_draw(self, 60000) : MTASK_FOREVER;
}

/* One of the ways that `ways` holds. */
static unsigned actor_way(crowd_actor *self, unsigned ways) {
    for (;;) {
        unsigned way = 1U << actor_draw(self, 4);
        if ((ways & way) != 0)
            return way;
    }
}

/* What came out of a lane whose order is `order`. */
static void arena_saw(crowd_arena *self, item_order *order, const void *item) {
    const crowd_plan *plan = &self->plan;
    uint32_t label = item_read((const unsigned char *)item, plan->item_size);
    uint32_t serial = SERIAL(label);
    unsigned char *seen = &self->seen[PRODUCER(label) * plan->each + serial];
    bool alone = plan->consumers == 1 && plan->lanes == 1 && !plan->discards &&
                 (plan->put_ways & SELECT) == 0; /* with that, producers may get, too */
    arena_check(self, label != NO_SUCH_ITEM);
    arena_check(self, PRODUCER(label) < (uint32_t)plan->producers && serial < plan->each);
    if (alone && plan->kind == MTASK_FIFO)
        arena_check(self, serial == order->next[PRODUCER(label)][0]);
    arena_check(self, order_allows(order, plan->kind, label));
    arena_check(self, __atomic_exchange_n(seen, 1, __ATOMIC_RELAXED) == 0);
}

static void actor_took(crowd_actor *self, int at, const unsigned char *items, size_t count,
                       bool calm) {
    order_begin(&self->orders[at], calm); /* a batch is taken at one moment */
    for (size_t i = 0; i < count; i++)
        arena_saw(self->arena, &self->orders[at], items + i * self->arena->plan.item_size);
    self->owed[at] += (uint32_t)count;
}

/* Says of `count` items that they are done. */
static void actor_pay(crowd_actor *self, int at, uint32_t count) {
    crowd_lane *lane = &self->arena->lanes[at];
    for (; count > 0; count--, self->owed[at]--) {
        ADD(&lane->finished, 1); /* before: whoever is let go by join must see it */
        ck_assert_status(mtask_queue_task_done(&lane->queue), MTASK_OK);
    }
}

/* Now and then, all that is owed. */
static void actor_pay_some(crowd_actor *self, int at) {
    if (actor_draw(self, 4) != 0)
        actor_pay(self, at, self->owed[at]);
}

/* ---- getting ---- */

/* What was known of a lane before a get. */
typedef struct lane_state {
    bool closed;
    bool drained;
} lane_state;

static lane_state lane_before(const crowd_lane *self) {
    lane_state before;
    before.drained = READ(&self->drained);
    before.closed = READ(&self->closed);
    return before;
}

/* What a get answered that was called with this timeout, and took so many items. */
static void actor_got(crowd_actor *self, int at, mtask_status status, size_t count,
                      lane_state before, int64_t timeout) {
    crowd_arena *arena = self->arena;
    crowd_lane *lane = &arena->lanes[at];
    if (status == MTASK_OK) {
        arena_check(arena, count > 0 && !before.drained);
        actor_took(self, at, self->items, count, before.closed);
        actor_pay_some(self, at);
        return;
    }
    arena_check(arena, status == MTASK_CLOSED || status == MTASK_EMPTY);
    if (status == MTASK_EMPTY)
        arena_check(arena, timeout != MTASK_FOREVER && !(before.closed && timeout == 0));
    if (status == MTASK_CLOSED) {
        arena_check(arena, READ(&lane->closing));
        WRITE(&lane->drained, true);
        self->gone[at] = true;
    }
}

static void actor_get(crowd_actor *self, int at, bool many, int64_t timeout) {
    crowd_lane *lane = &self->arena->lanes[at];
    lane_state before = lane_before(lane);
    size_t count = 1;
    mtask_status status;
    if (before.closed && !self->gone[at] && self->owed[at] == 0 && actor_draw(self, 2) == 0)
        sched_yield(); /* others drain it, too */
    if (many) {
        size_t wanted = 1 + (size_t)actor_draw(self, BATCH);
        count = 99;
        status = mtask_queue_get_many(&lane->queue, self->items, wanted, &count, timeout);
        arena_check(self->arena, status == MTASK_OK ? count <= wanted : count == 0);
    } else {
        status = mtask_queue_get(&lane->queue, self->items, timeout);
    }
    actor_got(self, at, status, count, before, timeout);
}

/* Waits for the descriptor, then takes some of what there is, without waiting. */
static void actor_poll(crowd_actor *self, int at) {
    crowd_lane *lane = &self->arena->lanes[at];
    static const int timeouts[] = {0, 1, -1, -1};
    struct pollfd watched;
    int ready, fd;
    ck_assert_status(mtask_queue_pollfd(&lane->queue, &watched.fd), MTASK_OK);
    fd = __atomic_exchange_n(&lane->fd, watched.fd, __ATOMIC_RELAXED);
    arena_check(self->arena, watched.fd >= 0 && (fd == -1 || fd == watched.fd));
    watched.events = POLLIN;
    ready = poll(&watched, 1, timeouts[actor_draw(self, 4)]);
    arena_check(self->arena, ready == 0 || (ready == 1 && watched.revents == POLLIN));
    for (uint64_t gets = actor_draw(self, 8); gets > 0 && !self->gone[at]; gets--)
        actor_get(self, at, actor_draw(self, 2) == 0, MTASK_NOWAIT);
}

/* What a select of the timeout may answer when no case fired. */
static void arena_check_unfired(const crowd_arena *self, mtask_status status, int64_t timeout) {
    arena_check(self, status == MTASK_TIMEOUT && timeout != MTASK_FOREVER);
}

/* A get on every lane: the first will do. */
static void actor_select_get(crowd_actor *self, int64_t timeout) {
    crowd_arena *arena = self->arena;
    mtask_queue_case cases[LANES];
    lane_state befores[LANES];
    size_t fired = 99, n = (size_t)arena->plan.lanes;
    mtask_status status;
    memset(cases, 0, sizeof cases);
    for (size_t i = 0; i < n; i++) {
        befores[i] = lane_before(&arena->lanes[i]);
        cases[i].queue = self->gone[i] ? NULL : &arena->lanes[i].queue;
        cases[i].op = MTASK_GET;
        cases[i].item = self->items + i * ITEM_SIZE;
    }
    status = mtask_queue_select(cases, n, &fired, timeout);
    if (fired == n) {
        arena_check_unfired(arena, status, timeout);
        return;
    }
    arena_check(arena, fired < n && !self->gone[fired]);
    memmove(self->items, self->items + fired * ITEM_SIZE, arena->plan.item_size);
    actor_got(self, (int)fired, status, 1, befores[fired], timeout);
}

/* One lane that is not closed for this actor, from the one at random on; -1: none. */
static int actor_lane(crowd_actor *self) {
    int n = self->arena->plan.lanes, first = (int)actor_draw(self, (uint64_t)n);
    for (int i = 0; i < n; i++)
        if (!self->gone[(first + i) % n])
            return (first + i) % n;
    return -1;
}

/* Gets in some way. A plain get that waits, waits at home, so that each lane has its consumer. */
static void actor_consume(crowd_actor *self) {
    int home = self->index % self->arena->plan.lanes;
    int at = self->gone[home] ? actor_lane(self) : home;
    unsigned way = actor_way(self, self->arena->plan.get_ways);
    if (way == SELECT)
        actor_select_get(self, actor_timeout(self));
    else if (way == POLL)
        actor_poll(self, at);
    else
        actor_get(self, at, way == MANY, actor_timeout(self));
}

static void consume(testing_member *member) {
    crowd_arena *arena = (crowd_arena *)member->arg;
    crowd_actor self;
    actor_init(&self, arena, member->index, member->index - arena->plan.producers);
    while (actor_lane(&self) >= 0)
        actor_consume(&self);
    for (int at = 0; at < arena->plan.lanes; at++)
        actor_pay(&self, at, self.owed[at]);
}

/* ---- putting ---- */

/* What a put answered: the first `moved` of `count` items are in. */
static void actor_has_put(crowd_actor *self, int at, mtask_status status, size_t count,
                          size_t moved, bool was_closed, int64_t timeout) {
    crowd_arena *arena = self->arena;
    crowd_lane *lane = &arena->lanes[at];
    arena_check(arena, moved <= count);
    arena_check(arena, (status == MTASK_OK) == (moved == count));
    if (was_closed)
        arena_check(arena, status == MTASK_CLOSED && moved == 0);
    if (status == MTASK_FULL)
        arena_check(arena, timeout != MTASK_FOREVER &&
                               !(arena->plan.capacity == MTASK_UNBOUNDED && timeout == 0));
    if (status == MTASK_CLOSED)
        self->gone[at] = READ(&lane->closing);
    arena_check(arena, status == MTASK_OK || status == MTASK_FULL || self->gone[at]);
    self->serial += (uint32_t)moved;
    /* release: whoever counts these before a join, joins after they were put */
    (void)__atomic_fetch_add(&lane->put, (uint32_t)moved, __ATOMIC_RELEASE);
}

static void actor_make_items(crowd_actor *self, size_t count) {
    size_t size = self->arena->plan.item_size;
    for (size_t i = 0; i < count; i++)
        item_make(self->items + i * size, size, LABEL(self->index, self->serial + (uint32_t)i));
}

static void actor_put(crowd_actor *self, int at, size_t count, int64_t timeout) {
    crowd_lane *lane = &self->arena->lanes[at];
    bool was_closed = READ(&lane->closed);
    size_t moved = 99;
    mtask_status status;
    actor_make_items(self, count);
    if (count > 1) {
        status = mtask_queue_put_many(&lane->queue, self->items, count, &moved, timeout);
    } else {
        status = mtask_queue_put(&lane->queue, self->items, timeout);
        moved = status == MTASK_OK;
    }
    actor_has_put(self, at, status, count, moved, was_closed, timeout);
}

/* The next item goes into whichever lane has room first; unless one of them, at random, has an item
   to take out before. */
static void actor_select_put(crowd_actor *self, int64_t timeout) {
    crowd_arena *arena = self->arena;
    mtask_queue_case cases[LANES + 1];
    unsigned char item[ITEM_SIZE];
    size_t fired = 99, n = (size_t)arena->plan.lanes;
    size_t source = (size_t)actor_draw(self, 2 * n);
    lane_state before = {false, false};
    bool closed[LANES];
    mtask_status status;
    memset(cases, 0, sizeof cases);
    actor_make_items(self, 1);
    memcpy(item, self->items, arena->plan.item_size);
    for (size_t i = 0; i < n; i++) {
        closed[i] = READ(&arena->lanes[i].closed);
        cases[i].queue = self->gone[i] ? NULL : &arena->lanes[i].queue;
        cases[i].op = MTASK_PUT;
        cases[i].item = item;
    }
    cases[n].op = MTASK_GET;
    cases[n].item = self->items;
    if (source < n && !self->gone[source]) {
        before = lane_before(&arena->lanes[source]);
        cases[n].queue = &arena->lanes[source].queue;
    }
    status = mtask_queue_select(cases, n + 1, &fired, timeout);
    arena_check(arena, memcmp(item, cases[0].item, arena->plan.item_size) == 0);
    if (fired < n)
        actor_has_put(self, (int)fired, status, 1, status == MTASK_OK, closed[fired], timeout);
    else if (fired == n)
        actor_got(self, (int)source, status, 1, before, timeout);
    else
        arena_check_unfired(arena, status, timeout);
}

/* Puts the next item, or some, in some way. */
static void actor_produce(crowd_actor *self) {
    const crowd_plan *plan = &self->arena->plan;
    unsigned way = actor_way(self, plan->put_ways);
    uint64_t left = plan->each - self->serial;
    if (way == SELECT)
        actor_select_put(self, actor_timeout(self));
    else
        actor_put(self, actor_lane(self),
                  way == MANY ? 1 + (size_t)actor_draw(self, left < BATCH ? left : BATCH) : 1,
                  actor_timeout(self));
}

static void produce(testing_member *member) {
    crowd_arena *arena = (crowd_arena *)member->arg;
    crowd_actor self;
    actor_init(&self, arena, member->index, member->index);
    while (self.serial < arena->plan.each && actor_lane(&self) >= 0)
        actor_produce(&self);
    for (int at = 0; at < arena->plan.lanes; at++)
        actor_pay(&self, at, self.owed[at]);
    arena->accepted[self.index] = self.serial;
    if (__atomic_sub_fetch(&arena->producing, 1, __ATOMIC_RELAXED) == 0)
        for (int at = 0; at < arena->plan.lanes; at++)
            lane_close(&arena->lanes[at]); /* for the second time, where somebody was faster */
}

/* ---- trouble ---- */

/* Joins at random moments: what was put before must be done after. */
static void join_often(testing_member *member) {
    crowd_arena *arena = (crowd_arena *)member->arg;
    crowd_actor self;
    actor_init(&self, arena, member->index, 0);
    for (bool last = false; !last;) {
        crowd_lane *lane = &arena->lanes[actor_draw(&self, (uint64_t)arena->plan.lanes)];
        int64_t timeout = actor_timeout(&self);
        uint32_t put;
        mtask_status status;
        last = arena_is_closed(arena);
        put = READ(&lane->put);
        status = mtask_queue_join(&lane->queue, timeout);
        arena_check(arena,
                    status == MTASK_OK || (status == MTASK_TIMEOUT && timeout != MTASK_FOREVER));
        if (status == MTASK_OK)
            arena_check(arena, READ(&lane->finished) - put <= UINT32_MAX / 2);
        sched_yield();
    }
}

typedef struct crowd_trash {
    crowd_arena *arena;
    crowd_lane *lane;
    item_order order;
    size_t count;
} crowd_trash;

static void throw_away(void *item, void *ctx) {
    crowd_trash *self = (crowd_trash *)ctx;
    arena_saw(self->arena, &self->order, item);
    ADD(&self->lane->finished, 1);
    self->count++;
}

static void discard_often(testing_member *member) {
    crowd_arena *arena = (crowd_arena *)member->arg;
    crowd_actor self;
    actor_init(&self, arena, member->index, 0);
    for (bool last = false; !last;) {
        crowd_trash trash;
        size_t discarded = 99;
        memset(&trash, 0, sizeof trash);
        order_begin(&trash.order, true);
        trash.arena = arena;
        trash.lane = &arena->lanes[actor_draw(&self, (uint64_t)arena->plan.lanes)];
        mtask_sleep((int64_t)actor_draw(&self, MTASK_US(300)));
        last = arena_is_closed(arena);
        ck_assert_status(mtask_queue_discard(&trash.lane->queue, throw_away, &trash, &discarded),
                         MTASK_OK);
        arena_check(arena, discarded == trash.count);
    }
}

static void close_early(testing_member *member) {
    crowd_arena *arena = (crowd_arena *)member->arg;
    crowd_actor self;
    int n = arena->plan.lanes, first;
    actor_init(&self, arena, member->index, 0);
    first = (int)actor_draw(&self, (uint64_t)n);
    for (int i = 0; i < n; i++) {
        mtask_sleep((int64_t)actor_draw(&self, MTASK_US(2000)));
        lane_close(&arena->lanes[(first + i) % n]);
    }
}

/* ---- a run ---- */

/* How long to wait for the end of a run before it counts as hung: well within Check's limit. */
static int64_t patience(void) {
    const char *factor = getenv("CK_TIMEOUT_MULTIPLIER");
    return MTASK_SEC(TEST_TIMEOUT / 2) * (factor != NULL && atoi(factor) > 0 ? atoi(factor) : 1);
}

/* As testing_crowd_join, but tells what the plan was if it takes too long. */
static void arena_join(crowd_arena *self, testing_crowd *crowd) {
    int64_t limit = mtask_now() + patience();
    while (testing_crowd_finished(crowd) < crowd->count) {
        struct timespec moment = {0, 100000};
        nanosleep(&moment, NULL);
        if (mtask_now() > limit)
            arena_fail(self, "hangs", __LINE__);
    }
    testing_crowd_join(crowd);
}

static void arena_check_items(const crowd_arena *self) {
    for (int p = 0; p < self->plan.producers; p++)
        for (uint32_t s = 0; s < self->plan.each; s++) {
            bool seen = self->seen[(uint32_t)p * self->plan.each + s] != 0;
            arena_check(self, seen == (s < self->accepted[p]));
        }
    if (!self->plan.closes)
        for (int p = 0; p < self->plan.producers; p++)
            arena_check(self, self->accepted[p] == self->plan.each);
}

static void arena_run(const crowd_plan *plan, uint64_t seed) {
    static testing_crowd crowd;
    static crowd_arena self;
    memset(&self, 0, sizeof self);
    self.plan = *plan;
    self.seed = seed;
    self.producing = (uint32_t)plan->producers;
    self.seen = (unsigned char *)calloc((size_t)plan->producers, plan->each);
    testing_check(self.seen != NULL);
    for (int i = 0; i < plan->lanes; i++)
        lane_init(&self.lanes[i], plan);
    testing_crowd_start(&crowd, plan->producers, produce, &self);
    for (int i = 0; i < plan->consumers; i++)
        (void)testing_crowd_add(&crowd, consume, &self);
    if (plan->joins)
        (void)testing_crowd_add(&crowd, join_often, &self);
    if (plan->discards)
        (void)testing_crowd_add(&crowd, discard_often, &self);
    if (plan->closes)
        (void)testing_crowd_add(&crowd, close_early, &self);
    arena_join(&self, &crowd);
    arena_check_items(&self);
    for (int i = 0; i < plan->lanes; i++) {
        lane_check_end(&self.lanes[i], &self);
        lane_deinit(&self.lanes[i]);
    }
    free(self.seen);
}

/* ---- plans ---- */

static const int crowds[] = {1, 2, 4, 8};
static const size_t capacities[] = {1, 2, 3, 64, 1000, MTASK_UNBOUNDED};
static const size_t item_sizes[] = {8, 13, 24};

/* Every pair of crowds with every capacity, a few items each. */
static void run_matrix(mtask_queue_kind kind) {
    uint64_t seed = testing_seed();
    uint32_t items = (uint32_t)testing_scale(240);
    crowd_plan plan = {.kind = kind, .lanes = 1, .put_ways = ONE | MANY, .get_ways = ONE | MANY};
    for (unsigned i = 0; i < 4 * 4 * 6; i++) {
        plan.producers = crowds[i % 4];
        plan.consumers = crowds[i / 4 % 4];
        plan.capacity = capacities[i / 16];
        plan.item_size = item_sizes[i % 3];
        plan.storage = i / 2 % 2 == 0;
        plan.each = items / (uint32_t)plan.producers + 3;
        arena_run(&plan, seed + i);
    }
}

/* A plan at random, with plain puts and gets, one by one or in batches. */
static crowd_plan plan_draw(testing_random *random) {
    crowd_plan plan;
    memset(&plan, 0, sizeof plan);
    plan.kind = (mtask_queue_kind)testing_below(random, 3);
    plan.capacity = capacities[testing_below(random, 6)];
    plan.item_size = item_sizes[testing_below(random, 3)];
    plan.lanes = 1;
    plan.producers = crowds[testing_below(random, 4)];
    plan.consumers = crowds[testing_below(random, 4)];
    plan.put_ways = 1 + (unsigned)testing_below(random, 3);
    plan.get_ways = 1 + (unsigned)testing_below(random, 3);
    plan.storage = testing_below(random, 2) == 0;
    plan.shared = testing_below(random, 6) == 0;
    plan.joins = testing_below(random, 2) == 0;
    return plan;
}

/* Shared queues have no descriptors. As many items as can be put in a few milliseconds; on a shared
   queue a select only naps. */
static void plan_limit(crowd_plan *plan) {
    bool slow = ((plan->get_ways | plan->put_ways) & (SELECT | POLL)) != 0;
    long items = slow ? 800 : plan->capacity <= 3 ? 1200 : 8000;
    if ((plan->get_ways & POLL) != 0 || plan->capacity == MTASK_UNBOUNDED)
        plan->shared = false;
    plan->storage = plan->storage || plan->shared;
    if (slow && plan->shared)
        items = 80;
    plan->each = (uint32_t)testing_scale(items) / (uint32_t)plan->producers + 5;
}

/* Runs plans, drawn and then changed by `change`, for about a second; at least 3. */
static void run_plans(void (*change)(crowd_plan *plan, testing_random *random)) {
    uint64_t seed = testing_seed();
    testing_random random = testing_random_make(seed, 0);
    int64_t start = mtask_now();
    for (int rounds = 0; rounds < 3 || testing_has_time(start); rounds++) {
        crowd_plan plan = plan_draw(&random);
        change(&plan, &random);
        plan_limit(&plan);
        arena_run(&plan, testing_next(&random));
    }
}

static void change_nothing(crowd_plan *plan, testing_random *random) {
    (void)plan;
    (void)random;
}

static void change_to_one_each(crowd_plan *plan, testing_random *random) {
    (void)random;
    plan->producers = plan->consumers = 1;
}

static void change_to_close(crowd_plan *plan, testing_random *random) {
    plan->closes = true;
    plan->get_ways |= testing_below(random, 4) == 0 ? SELECT : 0;
    plan->put_ways |= testing_below(random, 4) == 0 ? SELECT : 0;
    plan->get_ways |= testing_below(random, 4) == 0 ? POLL : 0;
    plan->discards = testing_below(random, 4) == 0;
}

static void change_to_discard(crowd_plan *plan, testing_random *random) {
    plan->discards = true;
    plan->joins = true;
    plan->closes = testing_below(random, 2) == 0;
}

/* Several queues, and selects among plain puts and gets, or selects only. */
static void change_to_select(crowd_plan *plan, testing_random *random) {
    plan->lanes = 2 + (int)testing_below(random, LANES - 1);
    plan->consumers += plan->lanes - 1;
    plan->capacity = capacities[testing_below(random, 4)];
    plan->put_ways = (plan->put_ways & (unsigned)testing_next(random)) | SELECT;
    plan->get_ways = (plan->get_ways & (unsigned)testing_next(random)) | SELECT;
    if (testing_below(random, 4) == 0)
        plan->put_ways = ONE;
    if (testing_below(random, 4) == 0)
        plan->get_ways = ONE;
    plan->closes = testing_below(random, 4) == 0;
}

/* Pollers among others, or pollers only: then nobody else covers up for a lost wake. */
static void change_to_poll(crowd_plan *plan, testing_random *random) {
    plan->get_ways = (plan->get_ways & (unsigned)testing_next(random)) | POLL;
    if (testing_below(random, 4) == 0)
        plan->put_ways |= SELECT;
    plan->discards = testing_below(random, 4) == 0;
}

static void change_to_everything(crowd_plan *plan, testing_random *random) {
    change_to_select(plan, random);
    plan->put_ways |= ONE | MANY;
    plan->get_ways |= ONE | MANY | POLL;
    plan->joins = true;
    plan->discards = testing_below(random, 2) == 0;
    plan->closes = testing_below(random, 2) == 0;
}

START_TEST(fifo_keeps_items_in_order_for_every_pair_of_crowds) {
    run_matrix(MTASK_FIFO);
}
END_TEST

START_TEST(lifo_keeps_items_for_every_pair_of_crowds) {
    run_matrix(MTASK_LIFO);
}
END_TEST

START_TEST(priority_is_stable_for_every_pair_of_crowds) {
    run_matrix(MTASK_PRIORITY);
}
END_TEST

START_TEST(random_crowds_lose_nothing) {
    run_plans(change_nothing);
}
END_TEST

START_TEST(one_producer_and_one_consumer_lose_nothing) {
    run_plans(change_to_one_each);
}
END_TEST

START_TEST(close_at_any_moment_loses_nothing_and_wakes_all) {
    run_plans(change_to_close);
}
END_TEST

START_TEST(discard_at_any_moment_counts_what_it_threw_away) {
    run_plans(change_to_discard);
}
END_TEST

START_TEST(selects_and_plain_calls_mix) {
    run_plans(change_to_select);
}
END_TEST

START_TEST(pollers_miss_nothing) {
    run_plans(change_to_poll);
}
END_TEST

START_TEST(everything_at_once) {
    run_plans(change_to_everything);
}
END_TEST

/* ---- select ---- */

/* Two queues of one item, and two selects that wait for both. */
typedef struct duel {
    mtask_queue queues[2];
    mtask_queue_op op; /* what the selects do */
    uint32_t round;    /* UINT32_MAX: it is over */
    uint32_t finished; /* selects, in all rounds */
} duel;

static void duel_select(testing_member *member) {
    duel *self = (duel *)member->arg;
    for (uint32_t seen = 0;; seen++) {
        uint64_t items[2] = {1, 1};
        mtask_queue_case cases[2];
        while (READ(&self->round) == seen)
            sched_yield();
        if (READ(&self->round) == UINT32_MAX)
            return;
        memset(cases, 0, sizeof cases);
        for (int i = 0; i < 2; i++) {
            cases[i].queue = &self->queues[i];
            cases[i].op = self->op;
            cases[i].item = &items[i];
        }
        ck_assert_status(mtask_queue_select(cases, 2, NULL, MTASK_FOREVER), MTASK_OK);
        (void)__atomic_fetch_add(&self->finished, 1, __ATOMIC_RELEASE);
    }
}

/* What both selects wait for, happens to both queues at once. Whoever hears of it first, hears of
   both; it takes one, and must tell the other of the second. */
static void duel_round(duel *self, uint32_t round) {
    struct timespec moment = {0, 100000};
    uint64_t item = 2;
    WRITE(&self->round, round);
    nanosleep(&moment, NULL); /* long enough, mostly, for both to sleep */
    for (int i = 0; i < 2; i++) {
        if (self->op == MTASK_GET)
            ck_assert_status(mtask_queue_put(&self->queues[i], &item, MTASK_FOREVER), MTASK_OK);
        else
            ck_assert_status(mtask_queue_get(&self->queues[i], &item, MTASK_FOREVER), MTASK_OK);
    }
    while (READ(&self->finished) < 2 * round)
        sched_yield();
}

static void play_duels(mtask_queue_kind kind, mtask_queue_op op) {
    static duel both;
    mtask_queue_desc desc = {.kind = kind, .capacity = 1, .item_size = sizeof(uint64_t)};
    int64_t start = mtask_now();
    testing_crowd crowd;
    memset(&both, 0, sizeof both);
    both.op = op;
    for (int i = 0; i < 2; i++) {
        uint64_t item = 3;
        ck_assert_status(mtask_queue_init(&both.queues[i], &desc), MTASK_OK);
        if (op == MTASK_PUT)
            ck_assert_status(mtask_queue_put(&both.queues[i], &item, MTASK_NOWAIT), MTASK_OK);
    }
    testing_crowd_start(&crowd, 2, duel_select, &both);
    for (uint32_t round = 1; mtask_now() - start < MTASK_MS(200); round++)
        duel_round(&both, round);
    WRITE(&both.round, UINT32_MAX);
    testing_crowd_join(&crowd);
    for (int i = 0; i < 2; i++)
        ck_assert_status(mtask_queue_deinit(&both.queues[i]), MTASK_OK);
}

START_TEST(select_tells_the_next_of_what_it_leaves) {
    play_duels(MTASK_FIFO, MTASK_GET);
    play_duels(MTASK_FIFO, MTASK_PUT);
    play_duels(MTASK_LIFO, MTASK_GET);
    play_duels(MTASK_LIFO, MTASK_PUT);
}
END_TEST

/* ---- close wakes all, and nobody else does ---- */

#define WAITERS 6

typedef struct last_call {
    mtask_queue queue;
    mtask_queue_op op; /* what all wait for */
    uint64_t seed;
} last_call;

static mtask_status last_call_wait(last_call *self, uint64_t way) {
    uint64_t items[2] = {0, 0};
    mtask_queue_case one;
    size_t moved;
    memset(&one, 0, sizeof one);
    one.queue = &self->queue;
    one.op = self->op;
    one.item = items;
    if (way == 0)
        return mtask_queue_select(&one, 1, NULL, MTASK_FOREVER);
    if (self->op == MTASK_GET)
        return way == 1 ? mtask_queue_get_many(&self->queue, items, 2, &moved, MTASK_FOREVER)
                        : mtask_queue_get(&self->queue, items, MTASK_FOREVER);
    return way == 1 ? mtask_queue_put_many(&self->queue, items, 2, &moved, MTASK_FOREVER)
                    : mtask_queue_put(&self->queue, items, MTASK_FOREVER);
}

static void last_call_waiter(testing_member *member) {
    last_call *self = (last_call *)member->arg;
    testing_random random = testing_random_make(self->seed, (unsigned)member->index);
    testing_dawdle(&random, 3000);
    ck_assert_status(last_call_wait(self, testing_below(&random, 4)), MTASK_CLOSED);
}

static void last_call_round(testing_random *random) {
    static last_call self;
    mtask_queue_desc desc = {.capacity = 1, .item_size = sizeof(uint64_t)};
    testing_crowd crowd;
    uint64_t item = 1;
    desc.kind = testing_below(random, 2) == 0 ? MTASK_FIFO : MTASK_LIFO;
    self.op = testing_below(random, 2) == 0 ? MTASK_GET : MTASK_PUT;
    self.seed = testing_next(random);
    ck_assert_status(mtask_queue_init(&self.queue, &desc), MTASK_OK);
    if (self.op == MTASK_PUT)
        ck_assert_status(mtask_queue_put(&self.queue, &item, MTASK_NOWAIT), MTASK_OK);
    testing_crowd_start(&crowd, WAITERS, last_call_waiter, &self);
    mtask_sleep((int64_t)testing_below(random, MTASK_US(300)));
    ck_assert_status(mtask_queue_close(&self.queue), MTASK_OK);
    testing_crowd_join(&crowd);
    ck_assert_status(mtask_queue_deinit(&self.queue), MTASK_OK);
}

START_TEST(close_wakes_all_who_wait) {
    testing_random random = testing_random_make(testing_seed(), 0);
    int64_t start = mtask_now();
    while (testing_has_time(start))
        last_call_round(&random);
}
END_TEST

/* ---- join ---- */

#define JOINERS 3
#define WORKERS 3

typedef struct workshop {
    mtask_queue queue;
    uint32_t total;    /* items put so far, in all rounds */
    uint32_t finished; /* task_dones that have been called, or are about to be */
    uint32_t released; /* joins that have returned */
    uint64_t seed;
} workshop;

static void work(testing_member *member) {
    workshop *shop = (workshop *)member->arg;
    testing_random random = testing_random_make(shop->seed, (unsigned)member->index);
    uint64_t item;
    while (mtask_queue_get(&shop->queue, &item, MTASK_FOREVER) == MTASK_OK) {
        testing_dawdle(&random, 300);
        ADD(&shop->finished, 1);
        ck_assert_status(mtask_queue_task_done(&shop->queue), MTASK_OK);
    }
}

/* Joins round after round; the next begins when all have joined. */
static void join_rounds(testing_member *member) {
    workshop *shop = (workshop *)member->arg;
    for (uint32_t seen = 0;;) {
        uint32_t total = READ(&shop->total);
        if (total == UINT32_MAX)
            return;
        if (total == seen) {
            sched_yield();
            continue;
        }
        ck_assert_status(mtask_queue_join(&shop->queue, MTASK_FOREVER), MTASK_OK);
        testing_check(READ(&shop->finished) == total);
        seen = total;
        (void)__atomic_fetch_add(&shop->released, 1, __ATOMIC_RELEASE);
    }
}

static void put_rounds(workshop *shop, testing_random *random) {
    int64_t start = mtask_now();
    uint32_t total = 0;
    for (uint32_t round = 1; testing_has_time(start); round++) {
        uint32_t count = 1 + (uint32_t)testing_below(random, 6);
        for (uint64_t i = 0; i < count; i++)
            ck_assert_status(mtask_queue_put(&shop->queue, &i, MTASK_FOREVER), MTASK_OK);
        total += count;
        testing_dawdle(random, 2000);
        WRITE(&shop->total, total);
        while (READ(&shop->released) < round * JOINERS)
            sched_yield();
        ck_assert_uint_eq(mtask_queue_unfinished(&shop->queue), 0);
        ck_assert_status(mtask_queue_task_done(&shop->queue), MTASK_OVERFLOW);
    }
    WRITE(&shop->total, UINT32_MAX);
}

START_TEST(join_returns_when_the_last_item_is_done_and_not_before) {
    static workshop shop;
    mtask_queue_desc desc = {.capacity = 4, .item_size = sizeof(uint64_t)};
    testing_crowd crowd;
    testing_random random;
    shop.seed = testing_seed();
    random = testing_random_make(shop.seed, 99);
    ck_assert_status(mtask_queue_init(&shop.queue, &desc), MTASK_OK);
    testing_crowd_start(&crowd, WORKERS, work, &shop);
    for (int i = 0; i < JOINERS; i++)
        (void)testing_crowd_add(&crowd, join_rounds, &shop);
    put_rounds(&shop, &random);
    ck_assert_status(mtask_queue_close(&shop.queue), MTASK_OK);
    testing_crowd_join(&crowd);
    ck_assert_status(mtask_queue_deinit(&shop.queue), MTASK_OK);
}
END_TEST

/* ---- idle ---- */

static mtask_queue idle_empty, idle_full, idle_least, idle_any;
static MTASK_QUEUE_STORAGE(idle_shared_storage, 2, sizeof(uint64_t));
static mtask_queue idle_shared;

static void idle_open(mtask_queue *queue, mtask_queue_desc desc) {
    desc.item_size = sizeof(uint64_t);
    stress_init(queue, desc);
}

static void idle_wait(testing_member *member) {
    uint64_t item = 0;
    size_t moved;
    int fd;
    struct pollfd watched;
    mtask_queue_case cases[] = {{.queue = &idle_empty, .op = MTASK_GET, .item = &item},
                                {.queue = &idle_full, .op = MTASK_PUT, .item = &item},
                                {.queue = &idle_any, .op = MTASK_GET, .item = &item}};
    switch (member->index) {
    case 0:
        member->status = mtask_queue_get(&idle_empty, &item, MTASK_FOREVER);
        break;
    case 1:
        member->status = mtask_queue_put(&idle_full, &item, MTASK_FOREVER);
        break;
    case 2:
        member->status = mtask_queue_get(&idle_least, &item, MTASK_SEC(1000));
        break;
    case 3:
        member->status = mtask_queue_get_many(&idle_any, &item, 1, &moved, MTASK_FOREVER);
        break;
    case 4:
        member->status = mtask_queue_select(cases, 3, NULL, MTASK_FOREVER);
        break;
    case 5:
        ck_assert_status(mtask_queue_join(&idle_full, MTASK_MS(1)), MTASK_TIMEOUT);
        member->status = mtask_queue_join(&idle_full, MTASK_FOREVER);
        break;
    case 6:
        member->status = mtask_queue_get(&idle_shared, &item, MTASK_FOREVER);
        break;
    default:
        member->status = mtask_queue_pollfd(&idle_empty, &fd);
        watched.fd = fd;
        watched.events = POLLIN;
        testing_check(poll(&watched, 1, -1) == 1);
    }
}

static int64_t process_cpu_time(void) {
    struct timespec used;
    testing_check(clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used) == 0);
    return MTASK_SEC(used.tv_sec) + used.tv_nsec;
}

static void idle_open_all(void) {
    uint64_t item = 1;
    idle_open(&idle_empty, (mtask_queue_desc){.capacity = 1000});
    idle_open(&idle_full, (mtask_queue_desc){.capacity = 1});
    ck_assert_status(mtask_queue_put(&idle_full, &item, MTASK_NOWAIT), MTASK_OK);
    idle_open(&idle_least, (mtask_queue_desc){.kind = MTASK_LIFO, .capacity = 2});
    idle_open(&idle_any, (mtask_queue_desc){.capacity = 7});
    idle_open(&idle_shared, (mtask_queue_desc){.capacity = 2,
                                               .storage = idle_shared_storage,
                                               .storage_size = sizeof idle_shared_storage,
                                               .flags = MTASK_SHARED});
}

START_TEST(waiters_use_no_cpu) {
    testing_crowd crowd;
    int64_t used, wall;
    idle_open_all();
    testing_crowd_start(&crowd, 8, idle_wait, NULL);
    testing_crowd_await_asleep(&crowd, 8);
    used = process_cpu_time();
    wall = mtask_now();
    testing_pause(300);
    used = process_cpu_time() - used;
    wall = mtask_now() - wall;
    ck_assert_int_eq(testing_crowd_finished(&crowd), 0);
    ck_assert_int_lt(used, wall / 10);
    ck_assert_status(mtask_queue_close(&idle_empty), MTASK_OK);
    ck_assert_status(mtask_queue_close(&idle_full), MTASK_OK);
    ck_assert_status(mtask_queue_close(&idle_least), MTASK_OK);
    ck_assert_status(mtask_queue_close(&idle_any), MTASK_OK);
    ck_assert_status(mtask_queue_close(&idle_shared), MTASK_OK);
    ck_assert_status(mtask_queue_discard(&idle_full, NULL, NULL, NULL), MTASK_OK);
    testing_crowd_join(&crowd);
    ck_assert_int_eq(testing_crowd_count(&crowd, MTASK_CLOSED), 6);
    ck_assert_int_eq(testing_crowd_count(&crowd, MTASK_OK), 2);
}
END_TEST

TESTING_MAIN("queue_stress", fifo_keeps_items_in_order_for_every_pair_of_crowds,
             lifo_keeps_items_for_every_pair_of_crowds, priority_is_stable_for_every_pair_of_crowds,
             random_crowds_lose_nothing, one_producer_and_one_consumer_lose_nothing,
             close_at_any_moment_loses_nothing_and_wakes_all,
             discard_at_any_moment_counts_what_it_threw_away, selects_and_plain_calls_mix,
             select_tells_the_next_of_what_it_leaves, pollers_miss_nothing, everything_at_once,
             close_wakes_all_who_wait, join_returns_when_the_last_item_is_done_and_not_before,
             waiters_use_no_cpu)
