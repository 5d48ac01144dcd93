/* cc -std=c11 -O2 -pthread -I. tests/bench/bench_queue.c -o bench_queue -lm
   (better: tests/bench/run.sh queue, which builds the peers, writes the table and draws the chart)

   The queues of mtask_queue.h against the bounded channels and blocking queues of Rust, Go, Java
   and Python. Each peer is a program in its own language, peer_queue_LANGUAGE.*, which has the same
   loops: items are copied in and out and summed, and the sum is checked. Threads are not bound to
   CPUs, ours as little as the peers'; those of the limits are.

   Every peer warms up by itself, in the same process, before its measured run. Rust's sync_channel
   is crossbeam's array queue since Rust 1.67, and was a mutex with condition variables before: an
   older one is marked in the peer's name.

   THE LIMIT. What two threads have to do to hand items over by memory: the lines that hold the
   items go to the other CPU and, to be filled again, back. Eight 8-byte items fit on a line, so the
   least is 2/8 of a cache-line transfer per item (processors begin the next before one has ended);
   then there are the lines with the counts, which can be looked at as seldom as one likes. Items
   with sequence numbers beside them take 4/8.
   `ring` is the least such program: one producer, one consumer, no locks, no sleeping, each with a
   count that it alone writes and a remembered copy of the other's. It is no queue: nobody else may
   put or get, and nobody can wait. `ring+RMW` is the same with one atomic read-modify-write in each
   put and each get, which is what claiming an item among several threads takes at least. `two RMWs`
   are those two alone, on one thread, on lines that it has in its cache.
   With several threads on each side bursts win: who has just put an item has the lines in its
   cache. So the bound is again that of `ring+RMW`; what it costs to fight for the two counts in
   every operation is printed beside it. */

#define MTASK_IMPLEMENTATION
#include "mtask_queue.h"

#include "bench.h"

#include <errno.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/wait.h>

#define LINE     128 /* two cache lines: processors fetch them in pairs */
#define CAPACITY 1024
#define BATCH    64
#define PAIRS    8 /* most producers, and most consumers */

/* ---- what can go wrong ---- */

static void require(int error, const char *what) {
    if (error == 0)
        return;
    fprintf(stderr, "benchmark: %s: %s\n", what, strerror(error));
    exit(1);
}

static void must(mtask_status status, const char *what) {
    if (status == MTASK_OK)
        return;
    fprintf(stderr, "benchmark: %s: %s\n", what, mtask_strerror(status));
    exit(1);
}

static void check_sum(uint64_t sum, uint64_t expected) {
    if (sum == expected)
        return;
    fprintf(stderr, "benchmark: items got lost\n");
    exit(1);
}

/* ---- items from producers to consumers ---- */

typedef struct block {
    uint64_t words[8];
} block;

MTASK_QUEUE_TYPE(words, uint64_t);
MTASK_QUEUE_TYPE(blocks, block);

static _Alignas(LINE) words word_queue;
static _Alignas(LINE) blocks block_queue;

/* What moves in a run: `items` in all, from `pairs` producers to as many consumers. */
typedef struct flow {
    void *(*produce)(void *);
    void *(*consume)(void *);
    uint64_t items;
    unsigned pairs;
    mtask_queue_kind kind;
    size_t capacity;
    size_t keys; /* how many different items of these there are: a power of two */
    bool timed;  /* how long each call takes, and not only all of them together */
} flow;

/* A producer or a consumer. */
typedef struct mover {
    _Alignas(LINE) pthread_barrier_t *start;
    uint64_t items; /* how many to move; a consumer of a FIFO goes on until the queue is closed */
    size_t keys;
    uint64_t sum;
    double began; /* by the thread itself: others may get to run much later */
    double ended;
    bench_histogram *waits;
    mtask_thread thread;
} mover;

/* The items of the stack and of the priority queue; those of the FIFOs are 0, 1, 2... Java's items
   are objects, made beforehand: a few for the stack, where only the queue itself matters; for the
   heap, which compares what is in them, one for each item of a producer. */
#define KEYS      (1 << 19)
#define LIFO_KEYS 4096
static uint64_t keys[KEYS];

static void make_keys(void) {
    uint64_t seed = 1;
    for (size_t i = 0; i < KEYS; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        keys[i] = seed >> 24;
    }
}

static void begin(mover *self) {
    pthread_barrier_wait(self->start);
    self->began = bench_now_ns();
}

static void *end(mover *self, uint64_t sum) {
    self->ended = bench_now_ns();
    self->sum = sum;
    return NULL;
}

static void *produce_words(void *arg) {
    mover *self = arg;
    begin(self);
    for (uint64_t i = 0; i < self->items; i++)
        must(words_put(&word_queue, i, MTASK_FOREVER), "put");
    return end(self, self->items * (self->items - 1) / 2);
}

static void *consume_words(void *arg) {
    mover *self = arg;
    uint64_t sum = 0, item;
    begin(self);
    while (words_get(&word_queue, &item, MTASK_FOREVER) == MTASK_OK)
        sum += item;
    return end(self, sum);
}

/* The clock is the one that the peer can read too. */
static void *produce_words_timed(void *arg) {
    mover *self = arg;
    begin(self);
    for (uint64_t i = 0; i < self->items; i++) {
        double before = bench_now_ns();
        must(words_put(&word_queue, i, MTASK_FOREVER), "put");
        bench_histogram_add(self->waits, (uint64_t)(bench_now_ns() - before));
    }
    return end(self, self->items * (self->items - 1) / 2);
}

static void *consume_words_timed(void *arg) {
    mover *self = arg;
    uint64_t sum = 0, item;
    mtask_status status;
    begin(self);
    do {
        double before = bench_now_ns();
        status = words_get(&word_queue, &item, MTASK_FOREVER);
        bench_histogram_add(self->waits, (uint64_t)(bench_now_ns() - before));
        sum += status == MTASK_OK ? item : 0;
    } while (status == MTASK_OK);
    return end(self, sum);
}

static void *produce_batches(void *arg) {
    mover *self = arg;
    uint64_t batch[BATCH];
    begin(self);
    for (uint64_t i = 0; i < self->items; i += BATCH) {
        for (uint64_t k = 0; k < BATCH; k++)
            batch[k] = i + k;
        must(words_put_many(&word_queue, batch, BATCH, NULL, MTASK_FOREVER), "put_many");
    }
    return end(self, self->items * (self->items - 1) / 2);
}

static void *consume_batches(void *arg) {
    mover *self = arg;
    uint64_t batch[BATCH], sum = 0;
    size_t moved;
    begin(self);
    while (words_get_many(&word_queue, batch, BATCH, &moved, MTASK_FOREVER) == MTASK_OK)
        for (size_t k = 0; k < moved; k++)
            sum += batch[k];
    return end(self, sum);
}

BENCH_MERGED block make_block(uint64_t i) {
    return (block){{i, i, i, i, i, i, i, i}};
}

BENCH_MERGED uint64_t sum_block(const block *item) {
    uint64_t sum = 0;
    for (int k = 0; k < 8; k++)
        sum += item->words[k];
    return sum;
}

static void *produce_blocks(void *arg) {
    mover *self = arg;
    begin(self);
    for (uint64_t i = 0; i < self->items; i++)
        must(blocks_put(&block_queue, make_block(i), MTASK_FOREVER), "put");
    return end(self, self->items * (self->items - 1) / 2 * 8);
}

static void *consume_blocks(void *arg) {
    mover *self = arg;
    uint64_t sum = 0;
    block item;
    begin(self);
    while (blocks_get(&block_queue, &item, MTASK_FOREVER) == MTASK_OK)
        sum += sum_block(&item);
    return end(self, sum);
}

static void *produce_keys(void *arg) {
    mover *self = arg;
    begin(self);
    for (uint64_t i = 0; i < self->items; i++)
        must(words_put(&word_queue, keys[i & (self->keys - 1)], MTASK_FOREVER), "put");
    end(self, 0);
    for (uint64_t i = 0; i < self->items; i++)
        self->sum += keys[i & (self->keys - 1)];
    return NULL;
}

/* Java's queues cannot be closed; so each consumer takes its share, here as there. */
static void *consume_keys(void *arg) {
    mover *self = arg;
    uint64_t sum = 0, item;
    begin(self);
    for (uint64_t i = 0; i < self->items; i++) {
        must(words_get(&word_queue, &item, MTASK_FOREVER), "get");
        sum += item;
    }
    return end(self, sum);
}

static int compare_words(const void *a, const void *b, void *ctx) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    (void)ctx;
    return (x > y) - (x < y);
}

static void open_queues(const flow *what) {
    mtask_queue_desc desc = {.kind = what->kind, .capacity = what->capacity};
    if (what->kind == MTASK_PRIORITY)
        desc.compare = compare_words;
    must(words_init_ex(&word_queue, &desc), "init");
    must(blocks_init(&block_queue, CAPACITY), "init");
}

static void start_mover(mover *self, const flow *what, void *(*body)(void *),
                        pthread_barrier_t *start) {
    *self = (mover){.start = start, .items = what->items / what->pairs, .keys = what->keys};
    if (what->timed)
        self->waits = calloc(1, sizeof *self->waits);
    must(mtask_thread_start(&self->thread, body, self), "thread");
}

static uint64_t join_movers(mover *movers, unsigned count) {
    uint64_t sum = 0;
    for (unsigned i = 0; i < count; i++) {
        must(mtask_thread_join(&movers[i].thread, NULL, MTASK_FOREVER), "join");
        sum += movers[i].sum;
    }
    return sum;
}

/* From when the first began until the last ended. */
static double lasted(const mover *movers, unsigned pairs) {
    double began = movers[0].began, ended = movers[0].ended;
    for (unsigned i = 0; i < pairs; i++) {
        began = fmin(began, fmin(movers[i].began, movers[PAIRS + i].began));
        ended = fmax(ended, fmax(movers[i].ended, movers[PAIRS + i].ended));
    }
    return ended - began;
}

/* Moves everything; returns ns. movers[PAIRS + i] are the consumers. */
static double move_all(const flow *what, mover movers[2 * PAIRS]) {
    pthread_barrier_t start;
    uint64_t put;
    require(pthread_barrier_init(&start, NULL, 2 * what->pairs), "barrier");
    open_queues(what);
    for (unsigned i = 0; i < what->pairs; i++) {
        start_mover(&movers[i], what, what->produce, &start);
        start_mover(&movers[PAIRS + i], what, what->consume, &start);
    }
    put = join_movers(movers, what->pairs);
    must(words_close(&word_queue), "close");
    must(blocks_close(&block_queue), "close");
    check_sum(join_movers(movers + PAIRS, what->pairs), put);
    must(words_deinit(&word_queue), "deinit");
    must(blocks_deinit(&block_queue), "deinit");
    pthread_barrier_destroy(&start);
    return lasted(movers, what->pairs);
}

static double throughput(const flow *what) {
    static mover movers[2 * PAIRS];
    return move_all(what, movers) / (double)what->items;
}

/* How long calls took, in runs of their own: the time that 99.9 % of them did not exceed, and the
   longest of all since the last note. Where threads fill and empty the queue in turns, one call in
   CAPACITY has to sleep; 99.9 % is just at that edge, and so jumps from one run to the next. */
static double longest_wait_ns;

static double wait_999(const flow *what) {
    static mover movers[2 * PAIRS];
    static bench_histogram all;
    memset(&all, 0, sizeof all);
    move_all(what, movers);
    for (unsigned i = 0; i < 2 * PAIRS; i++) {
        if (i % PAIRS >= what->pairs)
            continue;
        bench_histogram_merge(&all, movers[i].waits);
        free(movers[i].waits);
    }
    longest_wait_ns = fmax(longest_wait_ns, (double)all.max);
    return bench_histogram_ns(&all, 0.999) / bench_ns_per_tick() / 1000; /* it counted ns */
}

static void note_waits(void) {
    printf("    longest call of ours %.2f ms\n", longest_wait_ns / 1e6);
    longest_wait_ns = 0;
}

/* Defines `name`, the run of a FIFO with `pairs` producers and consumers. */
#define FIFO_RUN(name, figure, what_, items_, pairs_, capacity_, timed_)                           \
 static double name(void) {                                                                        \
  static const flow what = {.produce = produce_##what_,                                            \
                            .consume = consume_##what_,                                            \
                            .items = (items_),                                                     \
                            .pairs = (pairs_),                                                     \
                            .capacity = (capacity_),                                               \
                            .timed = (timed_)};                                                    \
  return figure(&what);                                                                            \
 }
FIFO_RUN(fifo_1p1c, throughput, words, 6000000, 1, CAPACITY, false)
FIFO_RUN(fifo_2p2c, throughput, words, 4000000, 2, CAPACITY, false)
FIFO_RUN(fifo_8p8c, throughput, words, 4000000, 8, CAPACITY, false)
FIFO_RUN(fifo_cap1, throughput, words, 300000, 1, 1, false)
FIFO_RUN(fifo_batches, throughput, batches, 64000000, 1, CAPACITY, false)
FIFO_RUN(fifo_blocks, throughput, blocks, 4000000, 1, CAPACITY, false)
FIFO_RUN(fifo_2p2c_wait, wait_999, words_timed, 2000000, 2, CAPACITY, true)
FIFO_RUN(fifo_8p8c_wait, wait_999, words_timed, 2000000, 8, CAPACITY, true)

#define KEY_ITEMS (2 * KEYS) /* as many as the peer: a heap that grows depends on it */

static double keys_2p2c(mtask_queue_kind kind, size_t capacity) {
    flow what = {.produce = produce_keys,
                 .consume = consume_keys,
                 .items = KEY_ITEMS,
                 .pairs = 2,
                 .kind = kind,
                 .capacity = capacity,
                 .keys = kind == MTASK_LIFO ? LIFO_KEYS : KEYS};
    return throughput(&what);
}

static double lifo_2p2c(void) {
    return keys_2p2c(MTASK_LIFO, CAPACITY);
}
static double priority_2p2c(void) {
    return keys_2p2c(MTASK_PRIORITY, CAPACITY);
}
/* As Java's, which has no bound, never makes a producer wait, and grows as far as consumers lag. */
static double priority_2p2c_unbounded(void) {
    mtask_queue_desc desc = {
        .kind = MTASK_PRIORITY, .capacity = MTASK_UNBOUNDED, .compare = compare_words};
    if (words_init_ex(&word_queue, &desc) != MTASK_OK)
        return (double)NAN; /* without stb_ds */
    must(words_deinit(&word_queue), "deinit");
    return keys_2p2c(MTASK_PRIORITY, MTASK_UNBOUNDED);
}

/* ---- one thread puts and gets ---- */

#define ALONE_ITEMS 8000000

static double fifo_alone(void) {
    uint64_t item, sum = 0;
    must(words_init(&word_queue, CAPACITY), "init");
    double start = bench_now_ns();
    for (uint64_t i = 0; i < ALONE_ITEMS; i++) {
        must(words_put(&word_queue, i, MTASK_FOREVER), "put");
        must(words_get(&word_queue, &item, MTASK_FOREVER), "get");
        sum += item;
    }
    double lasted = bench_now_ns() - start;
    check_sum(sum, (uint64_t)ALONE_ITEMS * (ALONE_ITEMS - 1) / 2);
    must(words_deinit(&word_queue), "deinit");
    return lasted / ALONE_ITEMS;
}

/* ---- between two processes ---- */

#define SHARED_ITEMS 4000000

typedef struct shared_memory {
    _Alignas(LINE) unsigned char storage[MTASK_QUEUE_STORAGE_SIZE(CAPACITY, sizeof(uint64_t))];
    pthread_barrier_t start;
    double began; /* the producer */
} shared_memory;

static mtask_queue_desc shared_desc(shared_memory *shared) {
    return (mtask_queue_desc){.capacity = CAPACITY,
                              .storage = shared->storage,
                              .storage_size = sizeof shared->storage,
                              .flags = MTASK_SHARED};
}

/* The producer, in a process of its own with a handle of its own. */
static void produce_shared(shared_memory *shared) {
    mtask_queue_desc desc = shared_desc(shared);
    words queue;
    must(words_attach(&queue, &desc), "attach");
    pthread_barrier_wait(&shared->start);
    shared->began = bench_now_ns();
    for (uint64_t i = 0; i < SHARED_ITEMS; i++)
        must(words_put(&queue, i, MTASK_FOREVER), "put");
    must(words_close(&queue), "close");
    must(words_deinit(&queue), "deinit");
}

static double consume_shared(words *queue, shared_memory *shared) {
    uint64_t item, sum = 0;
    pthread_barrier_wait(&shared->start);
    double start = bench_now_ns();
    while (words_get(queue, &item, MTASK_FOREVER) == MTASK_OK)
        sum += item;
    double ended = bench_now_ns();
    check_sum(sum, (uint64_t)SHARED_ITEMS * (SHARED_ITEMS - 1) / 2);
    return (ended - fmin(start, shared->began)) / SHARED_ITEMS;
}

static shared_memory *map_shared(void) {
    pthread_barrierattr_t attributes;
    void *memory = mmap(NULL, sizeof(shared_memory), PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    require(memory == MAP_FAILED ? ENOMEM : 0, "mmap");
    shared_memory *shared = memory;
    pthread_barrierattr_init(&attributes);
    pthread_barrierattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
    require(pthread_barrier_init(&shared->start, &attributes, 2), "barrier");
    return shared;
}

static double fifo_shared(void) {
    shared_memory *shared = map_shared();
    mtask_queue_desc desc = shared_desc(shared);
    words queue;
    must(words_init_ex(&queue, &desc), "init");
    alarm(120); /* ends us if the other process fails */
    pid_t child = fork();
    require(child < 0 ? errno : 0, "fork");
    if (child == 0) {
        produce_shared(shared);
        _exit(0);
    }
    double figure = consume_shared(&queue, shared);
    int status = -1;
    waitpid(child, &status, 0);
    alarm(0);
    require(status == 0 ? 0 : ECHILD, "the producer's process");
    must(words_deinit(&queue), "deinit");
    munmap(shared, sizeof *shared);
    return figure;
}

/* ---- the limits: see the top ---- */

static _Alignas(LINE) uint64_t counts[2][LINE / sizeof(uint64_t)];

static double two_rmws(void) {
    double start = bench_cpu_ns();
    for (int i = 0; i < ALONE_ITEMS; i++) {
        __atomic_fetch_add(&counts[0][0], 1, __ATOMIC_ACQ_REL);
        __atomic_fetch_add(&counts[1][0], 1, __ATOMIC_ACQ_REL);
    }
    return (bench_cpu_ns() - start) / ALONE_ITEMS;
}

BENCH_MERGED void pause_for(int times) {
    for (int i = 0; i < times; i++) {
#if defined(__x86_64__) || defined(__i386__)
        __builtin_ia32_pause();
#elif defined(__aarch64__)
        __asm__ volatile("isb");
#endif
        BENCH_BARRIER();
    }
}

/* Binds the calling thread to the `index`-th of the CPUs it may use; false if there are fewer. */
static bool bind_to_cpu(unsigned index) {
    cpu_set_t allowed, one;
    unsigned seen = 0;
    if (sched_getaffinity(0, sizeof allowed, &allowed) != 0)
        return false;
    for (size_t cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (!CPU_ISSET(cpu, &allowed) || seen++ != index)
            continue;
        CPU_ZERO(&one);
        CPU_SET(cpu, &one);
        return sched_setaffinity(0, sizeof one, &one) == 0;
    }
    return false;
}

typedef struct bound_thread {
    void (*body)(unsigned side);
    unsigned side;
    bool bound;
    pthread_barrier_t *start;
    double began;
    double ended;
} bound_thread;

static void *run_bound(void *arg) {
    bound_thread *self = arg;
    self->bound = bind_to_cpu(self->side);
    pthread_barrier_wait(self->start);
    self->began = bench_now_ns();
    self->body(self->side);
    self->ended = bench_now_ns();
    return NULL;
}

/* Runs body(0) and body(1) on a CPU each; returns ns. These only spin, and so must have two. */
static double on_two_cpus(void (*body)(unsigned side)) {
    pthread_barrier_t start;
    pthread_t threads[2];
    bound_thread both[2];
    cpu_set_t allowed;
    if (sched_getaffinity(0, sizeof allowed, &allowed) != 0 || CPU_COUNT(&allowed) < 2)
        return (double)NAN;
    require(pthread_barrier_init(&start, NULL, 2), "barrier");
    for (unsigned side = 0; side < 2; side++) {
        both[side] = (bound_thread){.body = body, .side = side, .start = &start};
        require(pthread_create(&threads[side], NULL, run_bound, &both[side]), "thread");
    }
    for (unsigned side = 0; side < 2; side++)
        pthread_join(threads[side], NULL);
    pthread_barrier_destroy(&start);
    if (!both[0].bound || !both[1].bound)
        return (double)NAN;
    return fmax(both[0].ended, both[1].ended) - fmin(both[0].began, both[1].began);
}

#define HANDOVERS 400000
#define FIGHTS    4000000

static _Alignas(LINE) uint64_t turn;

/* Each transfer can begin only when the one before has ended. */
static void hand_over(unsigned side) {
    for (uint64_t i = side; i < HANDOVERS; i += 2) {
        while (__atomic_load_n(&turn, __ATOMIC_ACQUIRE) != i)
            BENCH_BARRIER();
        __atomic_store_n(&turn, i + 1, __ATOMIC_RELEASE);
    }
}

/* ns for a cache line to get from one CPU to another. */
static double transfer(void) {
    turn = 0;
    return on_two_cpus(hand_over) / HANDOVERS;
}

/* With room for one item, the queue's state goes to the consumer and back with each. */
static double two_transfers(void) {
    return 2 * transfer();
}

static void fight(unsigned side) {
    for (int i = 0; i < FIGHTS / 2; i++) {
        __atomic_fetch_add(&counts[side][0], 1, __ATOMIC_ACQ_REL);
        __atomic_fetch_add(&counts[1 - side][0], 1, __ATOMIC_ACQ_REL);
    }
}

/* ns for a put's and a get's RMW when two CPUs never stop fighting for the two counts. */
static double contended_rmws(void) {
    return on_two_cpus(fight) / FIGHTS;
}

static struct {
    _Alignas(LINE) uint64_t tail;
    _Alignas(LINE) uint64_t head;
    _Alignas(LINE) uint64_t items[CAPACITY][8];
    uint64_t sum;
} ring;

/* Looking again at once would take the line away from who is just about to write it; and an RMW,
   other than a store, makes its thread wait for the line. The numbers are the best of 1 to 256. */
#define RING_PAUSES     16
#define RING_RMW_PAUSES 64

/* Waits until `index` has come as far as `least`; returns how far it is. */
BENCH_MERGED uint64_t ring_await(const uint64_t *index, uint64_t least, bool rmw) {
    uint64_t seen;
    while ((seen = __atomic_load_n(index, __ATOMIC_ACQUIRE)) < least)
        pause_for(rmw ? RING_RMW_PAUSES : RING_PAUSES);
    return seen;
}

BENCH_MERGED void ring_publish(uint64_t *index, uint64_t value, bool rmw) {
    if (rmw)
        __atomic_exchange_n(index, value, __ATOMIC_ACQ_REL);
    else
        __atomic_store_n(index, value, __ATOMIC_RELEASE);
}

BENCH_MERGED void ring_produce(uint64_t items, uint64_t batch, unsigned width, bool rmw) {
    uint64_t room_until = CAPACITY;
    for (uint64_t i = 0; i < items; i += batch) {
        if (i + batch > room_until)
            room_until = ring_await(&ring.head, i + batch - CAPACITY, rmw) + CAPACITY;
        for (uint64_t k = i; k < i + batch; k++)
            for (unsigned w = 0; w < width; w++)
                (&ring.items[0][0])[k % CAPACITY * width + w] = k;
        ring_publish(&ring.tail, i + batch, rmw);
    }
}

BENCH_MERGED void ring_consume(uint64_t items, uint64_t batch, unsigned width, bool rmw) {
    uint64_t sum = 0, filled_until = 0;
    for (uint64_t i = 0; i < items; i += batch) {
        if (i + batch > filled_until)
            filled_until = ring_await(&ring.tail, i + batch, rmw);
        for (uint64_t k = i; k < i + batch; k++)
            for (unsigned w = 0; w < width; w++)
                sum += (&ring.items[0][0])[k % CAPACITY * width + w];
        ring_publish(&ring.head, i + batch, rmw);
    }
    ring.sum = sum;
}

#define RING_ITEMS 16000000

/* Defines `name`, ns per item through the ring. */
#define RING_RUN(name, batch, words, rmw)                                                          \
 static void name##_side(unsigned side) {                                                          \
  if (side == 0)                                                                                   \
   ring_produce(RING_ITEMS, batch, words, rmw);                                                    \
  else                                                                                             \
   ring_consume(RING_ITEMS, batch, words, rmw);                                                    \
 }                                                                                                 \
 static double name(void) {                                                                        \
  ring.tail = ring.head = ring.sum = 0;                                                            \
  double figure = on_two_cpus(name##_side) / RING_ITEMS;                                           \
  if (!isnan(figure))                                                                              \
   check_sum(ring.sum, (uint64_t)RING_ITEMS *(RING_ITEMS - 1) / 2 * (words));                      \
  return figure;                                                                                   \
 }
RING_RUN(ring_plain, 1, 1, false)
RING_RUN(ring_rmw, 1, 1, true)
RING_RUN(ring_batches, BATCH, 1, false)
RING_RUN(ring_blocks, 1, 8, false)

/* The median of some runs, for the notes. */
static double median_of(double (*run)(void)) {
    double figures[5];
    for (size_t i = 0; i < BENCH_LENGTH(figures); i++)
        figures[i] = run();
    return bench_summarize(figures, (int)BENCH_LENGTH(figures)).median;
}

static void note_transfers(void) {
    double one = median_of(transfer), ours = median_of(fifo_1p1c);
    double plain = median_of(ring_plain), rmw = median_of(ring_rmw);
    printf("    a cache line gets to the other CPU in %.1f ns; the items alone are 0.25 transfers "
           "per item (%.1f ns, if none overlapped)\n",
           one, one / 4);
    printf("    in transfers per item: ours %.2f, ring+RMW %.2f (%.1f ns), ring %.2f (%.1f ns)\n",
           ours / one, rmw / one, rmw, plain / one, plain);
}

static void note_contended(void) {
    printf("    two CPUs that never stop fighting for two counts: %.1f ns per item\n",
           median_of(contended_rmws));
}

/* ---- who waits uses no CPU: CPU time in us for a wait of IDLE_NS ---- */

#define IDLE_NS 300000000

static double idle_ours(void) {
    uint64_t item;
    must(words_init(&word_queue, CAPACITY), "init");
    double start = bench_cpu_ns();
    mtask_status status = words_get(&word_queue, &item, IDLE_NS);
    double used = bench_cpu_ns() - start;
    must(status == MTASK_EMPTY ? MTASK_OK : status, "get");
    must(words_deinit(&word_queue), "deinit");
    return used / 1000;
}

static double idle_cond(void) {
    pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
    struct timespec until;
    int result = 0;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += IDLE_NS;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    double start = bench_cpu_ns();
    pthread_mutex_lock(&mutex);
    while (result == 0)
        result = pthread_cond_timedwait(&cond, &mutex, &until);
    pthread_mutex_unlock(&mutex);
    return (bench_cpu_ns() - start) / 1000;
}

static void note_idle(void) {
    printf("    of a wait of %d ms: to go to sleep once and to wake up\n", IDLE_NS / 1000000);
}

/* ---- memory: storage and handle, for 8-byte items ---- */

static double memory_of(mtask_queue_kind kind) {
    mtask_queue_desc desc = {.kind = kind, .capacity = CAPACITY, .item_size = sizeof(uint64_t)};
    if (kind == MTASK_PRIORITY)
        desc.compare = compare_words;
    return (double)(mtask_queue_storage_size(&desc) + sizeof(mtask_queue));
}

static double memory_fifo(void) {
    return memory_of(MTASK_FIFO);
}
static double memory_priority(void) {
    return memory_of(MTASK_PRIORITY);
}

#define MEMORY_AIM (CAPACITY * (sizeof(uint64_t) + 8) + 640)

static void note_memory(void) {
    printf("    beside the items: %.0f bytes (fifo), %.0f + 8 per item (priority); 640 of storage "
           "and the handle's %zu are the aim\n",
           memory_fifo() - CAPACITY * 8, memory_priority() - CAPACITY * 16, sizeof(mtask_queue));
}

/* ---- the peers' programs ---- */

/* As the table names them: with their versions, if they are there. */
static char rust[48] = "Rust", go[48] = "Go", java[48] = "Java", python[48] = "Python";

#define PEER(language) "build/bench/peer_queue_" language

/* Appends to `name` the version that `PROGRAM version` prints; returns 1067 for 1.67; 0: none. */
static int name_peer(char name[48], const char *program) {
    char command[128], text[128] = "", major[4] = "", minor[4] = "";
    snprintf(command, sizeof command, "%s version 2>/dev/null", program);
    FILE *output = popen(command, "r");
    if (output == NULL)
        return 0;
    if (fgets(text, sizeof text, output) != NULL)
        sscanf(text + strcspn(text, "0123456789"), "%3[0-9].%3[0-9]", major, minor);
    pclose(output);
    if (major[0] != '\0')
        strcat(strcat(name, " "), major);
    if (minor[0] != '\0')
        strcat(strcat(name, "."), minor);
    return atoi(major) * 1000 + atoi(minor);
}

static void name_peers(void) {
    int version = name_peer(rust, PEER("rust"));
    if (version > 0 && version < 1067)
        strcat(rust, " (<1.67)");
    name_peer(go, PEER("go"));
    name_peer(java, PEER("java"));
    name_peer(python, PEER("python"));
}

static void note_rust(void) {
    if (strstr(rust, "<1.67") != NULL)
        printf("    this Rust is older than 1.67, the first whose sync_channel is crossbeam's and "
               "is fast\n");
    note_transfers();
}

/* ---- the table ---- */

#define FROM(name_, run_)                                                                          \
 { .name = (name_), .run = (run_) }
#define BYTES(name_, value_)                                                                       \
 { .name = (name_), .value = (double)(value_) }
#define OURS(run_) FROM("mtask", run_)
#define NO_LIMIT   BYTES(NULL, 0)
#define RUST(figure)                                                                               \
 { .name = rust, .command = PEER("rust") " " figure }
#define GO(figure)                                                                                 \
 { .name = go, .command = PEER("go") " " figure }
#define JAVA(figure)                                                                               \
 { .name = java, .command = PEER("java") " " figure }
#define PYTHON(figure)                                                                             \
 { .name = python, .command = PEER("python") " " figure }

static const bench_case cases[] = {
    {"fifo_1p1c", "ns", OURS(fifo_1p1c), RUST("fifo_1p1c"), FROM("ring", ring_plain), 0.7, 0,
     note_rust},
    {"fifo_2p2c", "ns", OURS(fifo_2p2c), GO("fifo_2p2c"), FROM("ring+RMW", ring_rmw), 0.8, 0,
     note_contended},
    {"fifo_2p2c_wait999", "us", OURS(fifo_2p2c_wait), GO("fifo_2p2c_wait999"), NO_LIMIT, 0, 0,
     note_waits},
    {"fifo_8p8c", "ns", OURS(fifo_8p8c), GO("fifo_8p8c"), FROM("ring+RMW", ring_rmw), 0.8, 0, NULL},
    {"fifo_8p8c_wait999", "us", OURS(fifo_8p8c_wait), GO("fifo_8p8c_wait999"), NO_LIMIT, 0, 0,
     note_waits},
    {"fifo_1p1c_batch64", "ns", OURS(fifo_batches), RUST("fifo_1p1c_batch64"),
     FROM("ring of 64s", ring_batches), 0.15, 0, NULL},
    {"fifo_cap1", "ns", OURS(fifo_cap1), GO("fifo_cap1"), FROM("2 transfers", two_transfers), 3, 0,
     NULL},
    {"fifo_64B_1p1c", "ns", OURS(fifo_blocks), RUST("fifo_64B_1p1c"), FROM("ring", ring_blocks),
     0.8, 0, NULL},
    {"lifo_2p2c", "ns", OURS(lifo_2p2c), JAVA("lifo_2p2c"), FROM("two RMWs", two_rmws), 0.6, 0,
     NULL},
    {"priority_2p2c", "ns", OURS(priority_2p2c), JAVA("priority_2p2c"), FROM("two RMWs", two_rmws),
     0.6, 0, NULL},
    {"priority_unbounded", "ns", OURS(priority_2p2c_unbounded), JAVA("priority_2p2c"),
     FROM("two RMWs", two_rmws), 0.6, 0, NULL},
    {"queue_vs_python", "ns", OURS(fifo_1p1c), PYTHON("queue_vs_python"), FROM("ring", ring_plain),
     0.04, 0, NULL},
    {"shared_fifo_1p1c", "ns", OURS(fifo_shared), PYTHON("shared_fifo_1p1c"),
     FROM("ring+RMW", ring_rmw), 0.05, 0, NULL},
    {"uncontended_put_get", "ns", OURS(fifo_alone), RUST("uncontended_put_get"),
     FROM("two RMWs", two_rmws), 0.9, 0, NULL},
    {"idle_wait_cpu", "us", OURS(idle_ours), FROM("pthread_cond", idle_cond), NO_LIMIT, 0, 0,
     note_idle},
    {"memory_fifo", "bytes", OURS(memory_fifo), BYTES("aim", MEMORY_AIM), NO_LIMIT, 1, 1, NULL},
    {"memory_priority", "bytes", OURS(memory_priority), BYTES("aim", MEMORY_AIM), NO_LIMIT, 1, 1,
     note_memory},
};

int main(int argc, char **argv) {
    make_keys();
    name_peers();
    return bench_main("queue", cases, BENCH_LENGTH(cases), argc, argv);
}
