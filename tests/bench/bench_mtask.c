/* cc -std=c11 -O2 -pthread -I. tests/bench/bench_mtask.c -o bench_mtask -lm
   (better: tests/bench/run.sh mtask, which also writes the table and draws the chart)

   The locks and threads of mtask.h against pthread's. Both sides go through the same loops; ours is
   inlined from the header and pthread's is a call into the C library, as in anybody's program. */

#define MTASK_IMPLEMENTATION
#include "mtask.h"

#include "bench.h"

#include <linux/futex.h>
#include <sched.h>
#include <semaphore.h>
#include <sys/syscall.h>

#define LINE 128 /* two cache lines: processors fetch them in pairs */

/* ---- one thread alone: ns per operation ---- */

#define ALONE_LOOPS 2000000

BENCH_MERGED double alone(void (*operation)(void)) {
    double start = bench_cpu_ns();
    for (int i = 0; i < ALONE_LOOPS; i++) {
        operation();
        BENCH_BARRIER();
    }
    return (bench_cpu_ns() - start) / ALONE_LOOPS;
}

/* Defines `name`, the run that measures `operation` in a loop of its own. */
#define ALONE(name, operation)                                                                     \
 static double name(void) {                                                                        \
  return alone(operation);                                                                         \
 }

/* The floor of every lock: take it and give it back by an atomic read-modify-write each. */
static _Alignas(LINE) uint32_t floor_word;

BENCH_MERGED void two_atomics(void) {
    uint32_t seen = 0;
    __atomic_compare_exchange_n(&floor_word, &seen, 1, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED);
    __atomic_exchange_n(&floor_word, 0, __ATOMIC_RELEASE);
}
ALONE(floor_two_atomics, two_atomics)

BENCH_MERGED void one_load(void) {
    if (__atomic_load_n(&floor_word, __ATOMIC_ACQUIRE) > 1)
        abort();
}
ALONE(floor_one_load, one_load)

static _Alignas(LINE) mtask_mutex mutex_ours;
static _Alignas(LINE) pthread_mutex_t mutex_peer = PTHREAD_MUTEX_INITIALIZER;

BENCH_MERGED void mutex_pair_ours(void) {
    (void)mtask_mutex_lock(&mutex_ours);
    (void)mtask_mutex_unlock(&mutex_ours);
}
BENCH_MERGED void mutex_pair_peer(void) {
    pthread_mutex_lock(&mutex_peer);
    pthread_mutex_unlock(&mutex_peer);
}
ALONE(mutex_alone_ours, mutex_pair_ours)
ALONE(mutex_alone_peer, mutex_pair_peer)

static _Alignas(LINE) mtask_rwlock rwlock_ours;
static _Alignas(LINE) pthread_rwlock_t rwlock_peer = PTHREAD_RWLOCK_INITIALIZER;

BENCH_MERGED void read_pair_ours(void) {
    (void)mtask_rwlock_lock_read(&rwlock_ours);
    (void)mtask_rwlock_unlock_read(&rwlock_ours);
}
BENCH_MERGED void read_pair_peer(void) {
    pthread_rwlock_rdlock(&rwlock_peer);
    pthread_rwlock_unlock(&rwlock_peer);
}
ALONE(read_alone_ours, read_pair_ours)
ALONE(read_alone_peer, read_pair_peer)

static _Alignas(LINE) mtask_sem sem_ours;
static _Alignas(LINE) sem_t sem_peer;

BENCH_MERGED void sem_pair_ours(void) {
    (void)mtask_sem_release(&sem_ours, 1);
    (void)mtask_sem_acquire(&sem_ours, MTASK_FOREVER);
}
BENCH_MERGED void sem_pair_peer(void) {
    sem_post(&sem_peer);
    sem_wait(&sem_peer);
}
ALONE(sem_alone_ours, sem_pair_ours)
ALONE(sem_alone_peer, sem_pair_peer)

/* pthread has no event; this is how everybody makes one. */
typedef struct event_by_hand {
    pthread_mutex_t mutex;
    pthread_cond_t cond;
    int set;
} event_by_hand;

static _Alignas(LINE) mtask_event event_ours;
static _Alignas(LINE) event_by_hand event_peer = {PTHREAD_MUTEX_INITIALIZER,
                                                  PTHREAD_COND_INITIALIZER, 0};

BENCH_MERGED void event_cycle_ours(void) {
    mtask_event_set(&event_ours);
    mtask_event_clear(&event_ours);
    if (mtask_event_is_set(&event_ours))
        abort();
}
BENCH_MERGED void event_cycle_peer(void) {
    pthread_mutex_lock(&event_peer.mutex);
    __atomic_store_n(&event_peer.set, 1, __ATOMIC_RELEASE);
    pthread_cond_broadcast(&event_peer.cond);
    pthread_mutex_unlock(&event_peer.mutex);
    pthread_mutex_lock(&event_peer.mutex);
    __atomic_store_n(&event_peer.set, 0, __ATOMIC_RELEASE);
    pthread_mutex_unlock(&event_peer.mutex);
    if (__atomic_load_n(&event_peer.set,
                        __ATOMIC_ACQUIRE)) /* without the mutex: as cheap as ours */
        abort();
}
ALONE(event_alone_ours, event_cycle_ours)
ALONE(event_alone_peer, event_cycle_peer)

static _Alignas(LINE) mtask_once_flag once_ours;
static _Alignas(LINE) pthread_once_t once_peer = PTHREAD_ONCE_INIT;

static void *nothing_ours(void *arg) {
    return arg;
}
static void nothing_peer(void) {
}
BENCH_MERGED void once_check_ours(void) {
    (void)mtask_once(&once_ours, nothing_ours, NULL);
}
BENCH_MERGED void once_check_peer(void) {
    pthread_once(&once_peer, nothing_peer);
}
ALONE(once_alone_ours, once_check_ours)
ALONE(once_alone_peer, once_check_peer)

/* ---- where threads run ---- */

/* Binds the calling thread to the CPU that stands `index`-th among those it may use; if there are
   not so many, it stays free. */
static void bind_to_cpu(unsigned index) {
    cpu_set_t allowed, one;
    unsigned seen = 0;
    if (sched_getaffinity(0, sizeof allowed, &allowed) != 0)
        return;
    for (size_t cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (!CPU_ISSET(cpu, &allowed) || seen++ != index)
            continue;
        CPU_ZERO(&one);
        CPU_SET(cpu, &one);
        sched_setaffinity(0, sizeof one, &one);
        return;
    }
}

static void require(int error, const char *what) {
    if (error == 0)
        return;
    fprintf(stderr, "benchmark: %s: %s\n", what, strerror(error));
    exit(1);
}

/* ---- several threads fight for one mutex ----

   Each thread again and again: locks, adds to the three counters of a cache line that all share,
   unlocks, and works for itself for some 30 ns (PRIVATE_STEPS; the note prints what it is here).
   If there are CPUs for all, each thread is bound to one: which threads the scheduler puts together
   would decide more than the lock. A run lasts CONTENDED_NS; its figure is wall time / operations
   of all threads. How long the lock calls take is measured in runs of their own, since reading the
   clock takes time as well. */

#define PRIVATE_STEPS 24
#define CONTENDED_NS  120000000
#define CONTENDED_MAX 8

static _Alignas(LINE) uint64_t shared_counters[3];
static _Alignas(LINE) int contended_stop;

typedef struct contender {
    _Alignas(LINE) uint64_t operations;
    bench_histogram *waits; /* NULL: not measured now */
    uint64_t private_result;
    pthread_barrier_t *start;
    pthread_t thread;
    unsigned index;
    bool bound; /* to a CPU of its own */
} contender;

/* A chain of multiplications, each of which needs the one before. */
BENCH_MERGED uint64_t work_alone(uint64_t seed) {
    for (int i = 0; i < PRIVATE_STEPS; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        __asm__ volatile("" : "+r"(seed));
    }
    return seed;
}

BENCH_MERGED void touch_shared(void) {
    for (int i = 0; i < 3; i++)
        shared_counters[i]++;
    BENCH_BARRIER();
}

BENCH_MERGED void contend(contender *self, void (*lock)(void), void (*unlock)(void)) {
    uint64_t operations = 0, seed = (uintptr_t)self;
    while (!__atomic_load_n(&contended_stop, __ATOMIC_RELAXED)) {
        lock();
        touch_shared();
        unlock();
        seed = work_alone(seed);
        operations++;
    }
    self->operations = operations;
    self->private_result = seed;
}

BENCH_MERGED void contend_timed(contender *self, void (*lock)(void), void (*unlock)(void)) {
    uint64_t operations = 0, seed = (uintptr_t)self;
    while (!__atomic_load_n(&contended_stop, __ATOMIC_RELAXED)) {
        uint64_t before = bench_ticks();
        lock();
        uint64_t after = bench_ticks();
        touch_shared();
        unlock();
        bench_histogram_add(self->waits, after - before);
        seed = work_alone(seed);
        operations++;
    }
    self->operations = operations;
    self->private_result = seed;
}

BENCH_MERGED void lock_ours(void) {
    (void)mtask_mutex_lock(&mutex_ours);
}
BENCH_MERGED void unlock_ours(void) {
    (void)mtask_mutex_unlock(&mutex_ours);
}
BENCH_MERGED void lock_peer(void) {
    pthread_mutex_lock(&mutex_peer);
}
BENCH_MERGED void unlock_peer(void) {
    pthread_mutex_unlock(&mutex_peer);
}

static void contender_ready(const contender *self) {
    if (self->bound)
        bind_to_cpu(self->index);
    pthread_barrier_wait(self->start);
}

static void *contender_ours(void *arg) {
    contender *self = arg;
    contender_ready(self);
    if (self->waits != NULL)
        contend_timed(self, lock_ours, unlock_ours);
    else
        contend(self, lock_ours, unlock_ours);
    return NULL;
}

static void *contender_peer(void *arg) {
    contender *self = arg;
    contender_ready(self);
    if (self->waits != NULL)
        contend_timed(self, lock_peer, unlock_peer);
    else
        contend(self, lock_peer, unlock_peer);
    return NULL;
}

static void sleep_ns(long ns) {
    struct timespec duration = {0, ns};
    nanosleep(&duration, NULL);
}

/* Lets them fight; returns ns per operation. */
static double fight(contender *contenders, unsigned count, void *(*body)(void *), bool timed) {
    pthread_barrier_t start;
    double began, operations = 0;
    require(pthread_barrier_init(&start, NULL, count + 1), "barrier");
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    contended_stop = 0;
    for (unsigned i = 0; i < count; i++) {
        contenders[i] = (contender){.start = &start, .index = i, .bound = (long)count <= cpus};
        if (timed)
            contenders[i].waits = calloc(1, sizeof *contenders[i].waits);
        require(pthread_create(&contenders[i].thread, NULL, body, &contenders[i]), "thread");
    }
    pthread_barrier_wait(&start);
    began = bench_now_ns();
    sleep_ns(CONTENDED_NS);
    __atomic_store_n(&contended_stop, 1, __ATOMIC_RELAXED);
    double lasted = bench_now_ns() - began;
    for (unsigned i = 0; i < count; i++) {
        pthread_join(contenders[i].thread, NULL);
        operations += (double)contenders[i].operations;
    }
    pthread_barrier_destroy(&start);
    return lasted / operations;
}

/* What the notes print: sums over the runs of a case, for ours and the peer. */
typedef struct fight_totals {
    double least_share; /* operations of the slowest thread / an even share */
    double longest_ns;  /* the longest lock call ever */
    int runs;
} fight_totals;

static fight_totals totals_ours, totals_peer;

static double throughput(unsigned count, void *(*body)(void *), fight_totals *totals) {
    contender contenders[CONTENDED_MAX];
    double figure = fight(contenders, count, body, false);
    double least = INFINITY, all = 0;
    for (unsigned i = 0; i < count; i++) {
        least = fmin(least, (double)contenders[i].operations);
        all += (double)contenders[i].operations;
    }
    totals->least_share += least / (all / count);
    totals->runs++;
    return figure;
}

static double wait_999(unsigned count, void *(*body)(void *), fight_totals *totals) {
    contender contenders[CONTENDED_MAX];
    fight(contenders, count, body, true);
    for (unsigned i = 1; i < count; i++) {
        bench_histogram_merge(contenders[0].waits, contenders[i].waits);
        free(contenders[i].waits);
    }
    double figure = bench_histogram_ns(contenders[0].waits, 0.999);
    double longest = (double)contenders[0].waits->max * bench_ns_per_tick();
    totals->longest_ns = fmax(totals->longest_ns, longest);
    free(contenders[0].waits);
    return figure;
}

static double contended_2_ours(void) {
    return throughput(2, contender_ours, &totals_ours);
}
static double contended_2_peer(void) {
    return throughput(2, contender_peer, &totals_peer);
}
static double contended_4_ours(void) {
    return throughput(4, contender_ours, &totals_ours);
}
static double contended_4_peer(void) {
    return throughput(4, contender_peer, &totals_peer);
}
static double wait999_2_ours(void) {
    return wait_999(2, contender_ours, &totals_ours);
}
static double wait999_2_peer(void) {
    return wait_999(2, contender_peer, &totals_peer);
}
static double wait999_4_ours(void) {
    return wait_999(4, contender_ours, &totals_ours);
}
static double wait999_4_peer(void) {
    return wait_999(4, contender_peer, &totals_peer);
}

static uint64_t private_seed;

BENCH_MERGED void private_work(void) {
    private_seed = work_alone(private_seed);
}
ALONE(private_work_alone, private_work)

/* The limit: one thread that does the same with nobody to fight against. */
BENCH_MERGED void undisturbed(void) {
    two_atomics();
    touch_shared();
    private_work();
}
ALONE(undisturbed_alone, undisturbed)

static void note_fight(void) {
    printf("    slowest thread did %.0f %% (ours), %.0f %% (pthread) of an even share; "
           "private work %.0f ns\n",
           100 * totals_ours.least_share / totals_ours.runs,
           100 * totals_peer.least_share / totals_peer.runs, private_work_alone());
    totals_ours = totals_peer = (fight_totals){0};
}

static void note_waits(void) {
    printf("    longest lock call %.2f ms (ours), %.2f ms (pthread)\n",
           totals_ours.longest_ns / 1e6, totals_peer.longest_ns / 1e6);
    totals_ours = totals_peer = (fight_totals){0};
}

/* ---- two threads take turns: us for each time the turn changes hands ----

   Each is bound to a CPU of its own (or both to the first CPU for the figures that end in `_1cpu`):
   where the scheduler happens to put them would decide more than what is measured. */

#define TURNS 4000

static bool turns_on_one_cpu;

typedef struct turn_taker {
    void (*body)(unsigned side);
    unsigned side;
    pthread_barrier_t *start;
    double began;
    double ended;
} turn_taker;

static void *take_turns(void *arg) {
    turn_taker *self = arg;
    bind_to_cpu(turns_on_one_cpu ? 0 : self->side);
    pthread_barrier_wait(self->start);
    self->began = bench_now_ns();
    self->body(self->side);
    self->ended = bench_now_ns();
    return NULL;
}

static double turns(void (*body)(unsigned side)) {
    pthread_barrier_t start;
    pthread_t threads[2];
    turn_taker takers[2];
    require(pthread_barrier_init(&start, NULL, 2), "barrier");
    for (unsigned side = 0; side < 2; side++) {
        takers[side] = (turn_taker){.body = body, .side = side, .start = &start};
        require(pthread_create(&threads[side], NULL, take_turns, &takers[side]), "thread");
    }
    for (unsigned side = 0; side < 2; side++)
        pthread_join(threads[side], NULL);
    pthread_barrier_destroy(&start);
    double began = fmin(takers[0].began, takers[1].began);
    return (fmax(takers[0].ended, takers[1].ended) - began) / TURNS / 1000;
}

static double turns_one_cpu(void (*body)(unsigned side)) {
    turns_on_one_cpu = true;
    double figure = turns(body);
    turns_on_one_cpu = false;
    return figure;
}

/* Defines `name` and `name`_1cpu, the runs in which two threads take turns by `body`. */
#define TURN_RUNS(name, body)                                                                      \
 static double name(void) {                                                                        \
  return turns(body);                                                                              \
 }                                                                                                 \
 static double name##_1cpu(void) {                                                                 \
  return turns_one_cpu(body);                                                                      \
 }

/* The limit: a word, the system call that waits for it and the one that wakes; no spinning. */
static _Alignas(LINE) uint32_t futex_turn;

static void turns_futex(unsigned side) {
    for (int i = 0; i < TURNS / 2; i++) {
        while (__atomic_load_n(&futex_turn, __ATOMIC_ACQUIRE) != side)
            syscall(SYS_futex, &futex_turn, FUTEX_WAIT_PRIVATE, 1 - side, NULL);
        __atomic_store_n(&futex_turn, 1 - side, __ATOMIC_RELEASE);
        syscall(SYS_futex, &futex_turn, FUTEX_WAKE_PRIVATE, 1);
    }
}
TURN_RUNS(raw_futex, turns_futex)

static _Alignas(LINE) unsigned cond_turn;
static mtask_cond cond_ours;
static pthread_cond_t cond_peer = PTHREAD_COND_INITIALIZER;

static void turns_cond_ours(unsigned side) {
    for (int i = 0; i < TURNS / 2; i++) {
        (void)mtask_mutex_lock(&mutex_ours);
        while (cond_turn != side)
            (void)mtask_cond_wait(&cond_ours, &mutex_ours, MTASK_FOREVER);
        cond_turn = 1 - side;
        (void)mtask_cond_notify(&cond_ours, 1);
        (void)mtask_mutex_unlock(&mutex_ours);
    }
}
static void turns_cond_peer(unsigned side) {
    for (int i = 0; i < TURNS / 2; i++) {
        pthread_mutex_lock(&mutex_peer);
        while (cond_turn != side)
            pthread_cond_wait(&cond_peer, &mutex_peer);
        cond_turn = 1 - side;
        pthread_cond_signal(&cond_peer);
        pthread_mutex_unlock(&mutex_peer);
    }
}
TURN_RUNS(cond_turns_ours, turns_cond_ours)
TURN_RUNS(cond_turns_peer, turns_cond_peer)

/* sems[side] says that it is that side's turn. */
static struct { _Alignas(LINE) mtask_sem sem; } sems_ours[2] = {{{1, 0}}, {{0, 0}}};
static struct { _Alignas(LINE) sem_t sem; } sems_peer[2];

static void turns_sem_ours(unsigned side) {
    for (int i = 0; i < TURNS / 2; i++) {
        (void)mtask_sem_acquire(&sems_ours[side].sem, MTASK_FOREVER);
        (void)mtask_sem_release(&sems_ours[1 - side].sem, 1);
    }
}
static void turns_sem_peer(unsigned side) {
    for (int i = 0; i < TURNS / 2; i++) {
        sem_wait(&sems_peer[side].sem);
        sem_post(&sems_peer[1 - side].sem);
    }
}
TURN_RUNS(sem_turns_ours, turns_sem_ours)
TURN_RUNS(sem_turns_peer, turns_sem_peer)

static mtask_barrier barrier_ours;
static pthread_barrier_t barrier_peer;

static void turns_barrier_ours(unsigned side) {
    (void)side;
    for (int i = 0; i < TURNS; i++)
        (void)mtask_barrier_wait(&barrier_ours, NULL, MTASK_FOREVER);
}
static void turns_barrier_peer(unsigned side) {
    (void)side;
    for (int i = 0; i < TURNS; i++)
        pthread_barrier_wait(&barrier_peer);
}
TURN_RUNS(barrier_turns_ours, turns_barrier_ours)
TURN_RUNS(barrier_turns_peer, turns_barrier_peer)

/* ---- starting and joining a thread that does nothing: us ---- */

#define STARTS 1000

static double start_join_ours(void) {
    double start = bench_now_ns();
    for (int i = 0; i < STARTS; i++) {
        mtask_thread thread = {0};
        if (mtask_thread_start(&thread, nothing_ours, NULL) != MTASK_OK)
            return (double)NAN;
        (void)mtask_thread_join(&thread, NULL, MTASK_FOREVER);
    }
    return (bench_now_ns() - start) / STARTS / 1000;
}

static double start_join_peer(void) {
    double start = bench_now_ns();
    for (int i = 0; i < STARTS; i++) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, nothing_ours, NULL) != 0)
            return (double)NAN;
        pthread_join(thread, NULL);
    }
    return (bench_now_ns() - start) / STARTS / 1000;
}

/* The limit: clone on a stack that is there already, and a futex wait for its end. The child has
   its parent's thread-local storage, so it may do nothing at all. */
static int nothing_cloned(void *arg) {
    (void)arg;
    return 0;
}

static double clone_alone(void) {
    static _Alignas(64) char stack[65536];
    static pid_t child;
    int flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM |
                CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID;
    double start = bench_now_ns();
    for (int i = 0; i < STARTS; i++) {
        pid_t seen;
        if (clone(nothing_cloned, stack + sizeof stack, flags, NULL, &child, NULL, &child) < 0)
            return (double)NAN;
        while ((seen = __atomic_load_n(&child, __ATOMIC_ACQUIRE)) != 0)
            syscall(SYS_futex, &child, FUTEX_WAIT, seen, NULL); /* the kernel wakes a shared one */
    }
    return (bench_now_ns() - start) / STARTS / 1000;
}

/* ---- code ---- */

#define CODE_SIZE "tests/bench/code_size.sh mtask.h"

/* `size` counts texts and unwind tables as well. */
static void note_code(void) {
    fflush(stdout);
    if (system("printf '    '; " CODE_SIZE) != 0)
        printf("missing\n");
}

/* ---- the table ---- */

#define FROM(name_, run_)                                                                          \
 { .name = (name_), .run = (run_) }
#define BYTES(name_, value_)                                                                       \
 { .name = (name_), .value = (double)(value_) }
#define OURS(run_)     FROM("mtask", run_)
#define TWO_ATOMICS    FROM("two atomics", floor_two_atomics)
#define ONE_THREAD     FROM("one thread", undisturbed_alone)
#define RAW_FUTEX      FROM("raw futex", raw_futex)
#define RAW_FUTEX_1CPU FROM("raw futex", raw_futex_1cpu)

/* A line for the size of a type; at most `most` bytes are the aim. */
#define SIZE(figure_, type, peer_type, most)                                                       \
 {                                                                                                 \
  .figure = "size_" figure_, .unit = "bytes", .ours = BYTES("mtask", sizeof(type)),                \
  .peer = BYTES(#peer_type, sizeof(peer_type)), .reach = (most) / (double)sizeof(peer_type)        \
 }

static const bench_case cases[] = {
    {"mutex_uncontended", "ns", OURS(mutex_alone_ours), FROM("pthread_mutex", mutex_alone_peer),
     TWO_ATOMICS, 0.92, 0, NULL},
    {"mutex_contended_2", "ns", OURS(contended_2_ours), FROM("pthread_mutex", contended_2_peer),
     ONE_THREAD, 0.65, 0, note_fight},
    {"mutex_wait999_2", "ns", OURS(wait999_2_ours), FROM("pthread_mutex", wait999_2_peer),
     BYTES(NULL, 0), 2, 0, note_waits},
    {"mutex_contended_4", "ns", OURS(contended_4_ours), FROM("pthread_mutex", contended_4_peer),
     ONE_THREAD, 0.90, 0, note_fight},
    {"mutex_wait999_4", "ns", OURS(wait999_4_ours), FROM("pthread_mutex", wait999_4_peer),
     BYTES(NULL, 0), 2, 0, note_waits},
    {"rwlock_read_uncontended", "ns", OURS(read_alone_ours),
     FROM("pthread_rwlock", read_alone_peer), TWO_ATOMICS, 0.9, 0, NULL},
    {"sem_uncontended", "ns", OURS(sem_alone_ours), FROM("sem_t", sem_alone_peer), TWO_ATOMICS, 0.9,
     0, NULL},
    {"event_set_clear", "ns", OURS(event_alone_ours), FROM("mutex+cond", event_alone_peer),
     TWO_ATOMICS, 0.5, 0, NULL},
    {"once_done", "ns", OURS(once_alone_ours), FROM("pthread_once", once_alone_peer),
     FROM("one load", floor_one_load), 1.05, 0, NULL},
    {"cond_pingpong", "us", OURS(cond_turns_ours), FROM("pthread_cond", cond_turns_peer), RAW_FUTEX,
     1.05, 0, NULL},
    {"sem_pingpong", "us", OURS(sem_turns_ours), FROM("sem_t", sem_turns_peer), RAW_FUTEX, 1.05, 0,
     NULL},
    {"barrier_2", "us", OURS(barrier_turns_ours), FROM("pthread_barrier", barrier_turns_peer),
     RAW_FUTEX, 1.05, 0, NULL},
    {"cond_pingpong_1cpu", "us", OURS(cond_turns_ours_1cpu),
     FROM("pthread_cond", cond_turns_peer_1cpu), RAW_FUTEX_1CPU, 0, 0, NULL},
    {"sem_pingpong_1cpu", "us", OURS(sem_turns_ours_1cpu), FROM("sem_t", sem_turns_peer_1cpu),
     RAW_FUTEX_1CPU, 0, 0, NULL},
    {"barrier_2_1cpu", "us", OURS(barrier_turns_ours_1cpu),
     FROM("pthread_barrier", barrier_turns_peer_1cpu), RAW_FUTEX_1CPU, 0, 0, NULL},
    {"thread_start_join", "us", OURS(start_join_ours), FROM("pthread_create", start_join_peer),
     FROM("clone", clone_alone), 1.15, 0, NULL},
    SIZE("mutex", mtask_mutex, pthread_mutex_t, 4),
    SIZE("once", mtask_once_flag, pthread_once_t, 4),
    SIZE("event", mtask_event, event_by_hand, 8),
    SIZE("sem", mtask_sem, sem_t, 8),
    SIZE("rwlock", mtask_rwlock, pthread_rwlock_t, 12),
    SIZE("cond", mtask_cond, pthread_cond_t, 16),
    {"code_size",
     "bytes",
     {.name = "mtask", .command = CODE_SIZE},
     BYTES("aim", 16384),
     BYTES(NULL, 0),
     1,
     1,
     note_code},
};

static void prepare(void) {
    require(sem_init(&sem_peer, 0, 0), "semaphore");
    for (unsigned side = 0; side < 2; side++)
        require(sem_init(&sems_peer[side].sem, 0, side == 0), "semaphore");
    require(pthread_barrier_init(&barrier_peer, NULL, 2), "barrier");
    require((int)mtask_barrier_init(&barrier_ours, 2, NULL, NULL, MTASK_PRIVATE), "our barrier");
    once_check_ours();
    once_check_peer();
}

int main(int argc, char **argv) {
    prepare();
    return bench_main("mtask", cases, BENCH_LENGTH(cases), argc, argv);
}
