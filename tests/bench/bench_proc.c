/* cc -std=c11 -O2 -pthread -I. tests/bench/bench_proc.c -o bench_proc -lm
   (better: tests/bench/run.sh proc, which builds the peers, writes the table and draws the chart)

   Processes, commands, pipes and pools of mtask_proc.h against bare system calls, and against
   multiprocessing, concurrent.futures and subprocess of Python, os/exec of Go, process::Command of
   Rust, and xargs. Peers in other languages are peer_proc_NAME.*, which have the same loops.

   Every run is a process of its own, `bench_proc run FIGURE`, of ours and of what is bare, so that
   each fork copies the same little memory; what is bare runs where mtask has not been used, without
   its fork handlers. Where two processes hand something to each other (shared_queue, pipe_*, and the
   limits of memory) each is bound to a CPU of its own, the peers' as well; others are not bound.
   MTASK_BENCH_WORKERS is the number of workers of pools, ours and the peers' (default 2).

   process_start_join   FORK. big_*: in a process that has written to 256 MiB of memory, ours by the
                        fork server, which has none of it, against fork, which copies it.
   run_*                /bin/true; /bin/echo with its output captured, and head with 256 MiB of it.
   procpool_*           a function that returns the 8 bytes (or the MiB) that it gets: submit with
                        10,000 in flight, map with chunks of 1, roundtrip one at a time, 1MiB with 16
                        in flight. start: made and ended. worker_KiB: memory (PSS) of a worker.
   shared_queue         from process to process, 8 bytes, FIFO of 1,024. shared_value: one process
                        locks a number, adds 1, unlocks it.
   pipe_roundtrip       16 bytes there and back. 1cpu: both processes on one CPU.
   *_GB_per_s           a process sends 1 MiB after the other. oneway: not duplex, against the
                        corresponding pipe of Python.
   parallel_*           2,000 times /bin/echo, 2 at a time, without a shell; shell: 2,000 lines for
                        one. Ours keeps output in order, xargs does not.

   THE LIMITS, also as peers. `fork, waitpid` and `posix_spawn, waitpid` are what the kernel takes.
   `2 wakes`: two processes that sleep and wake each other by a word in shared memory. `ring`: the
   least that moves items through shared memory (one producer, one consumer, no locks, no sleeping,
   each on a CPU of its own); `2 rings`: a line of 64 bytes there and another one back. `1 stream`:
   send and recv of a MiB; `2 streams`: there and back. `robust mutex`: lock and unlock of one. */

// examples: parallel
#define MTASK_IMPLEMENTATION
#include "mtask_proc.h"

#include "bench.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define MIB  ((size_t)1 << 20)
#define LINE 128 /* two cache lines: processors fetch them in pairs */

/* ---- what can go wrong ---- */

static void must(mtask_status status, const char *what) {
    if (status == MTASK_OK)
        return;
    fprintf(stderr, "benchmark: %s: %s\n", what, mtask_strerror(status));
    exit(1);
}

static void expect(bool holds, const char *what) {
    if (holds)
        return;
    fprintf(stderr, "benchmark: %s: %s\n", what, strerror(errno));
    exit(1);
}

/* ---- loops ---- */

/* Microseconds for each call, after some to warm up. */
static double us_each(void (*once)(void), int count) {
    double start = 0;
    for (int i = -count / 4; i < count; i++) {
        if (i == 0)
            start = bench_now_ns();
        once();
    }
    return (bench_now_ns() - start) / count / 1e3;
}

static unsigned workers(void) {
    const char *text = getenv("MTASK_BENCH_WORKERS");
    int count = text != NULL ? atoi(text) : 2;
    return count > 0 ? (unsigned)count : 2;
}

static void *share(size_t size) {
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    expect(memory != MAP_FAILED, "mmap");
    return memory;
}

/* ---- CPUs ---- */

static cpu_set_t cpus;  /* that this program may use */
static int far_cpu = 1; /* where the process at the far end runs */

/* Binds the calling process to the one of the CPUs that has this number among them. */
static void bind_to(int number) {
    cpu_set_t one;
    number %= CPU_COUNT(&cpus);
    CPU_ZERO(&one);
    for (size_t cpu = 0; cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET(cpu, &cpus) && number-- == 0)
            CPU_SET(cpu, &one);
    expect(sched_setaffinity(0, sizeof one, &one) == 0, "sched_setaffinity");
}

/* ---- bare children, on a CPU of their own ---- */

static pid_t bare_child(void (*run)(void *), void *arg) {
    pid_t parent = getpid(), pid = fork();
    expect(pid >= 0, "fork");
    if (pid > 0) {
        bind_to(0);
        return pid;
    }
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    bind_to(far_cpu);
    if (getppid() == parent)
        run(arg);
    _exit(0);
}

static void bare_wait(pid_t pid) {
    int status = 0;
    expect(waitpid(pid, &status, 0) == pid && status == 0, "waitpid");
}

/* ---- processes ---- */

#define BIG (256 * MIB)

static void *nothing(void *arg) {
    return arg;
}

static void start_and_join(mtask_proc_method method) {
    mtask_proc_desc desc = {.fn = nothing, .method = method};
    mtask_proc *process;
    must(mtask_proc_start_ex(&process, &desc), "start");
    must(mtask_proc_join(process, NULL, MTASK_FOREVER), "join");
    must(mtask_proc_close(process), "close");
}

static void start_by_fork(void) {
    start_and_join(MTASK_PROC_FORK);
}
static void start_by_spawn(void) {
    start_and_join(MTASK_PROC_SPAWN);
}
static void start_by_server(void) {
    start_and_join(MTASK_PROC_FORKSERVER);
}

static double process_start_join(void) {
    return us_each(start_by_fork, 1000);
}
static double spawn_start_join(void) {
    return us_each(start_by_spawn, 200);
}

static double with_server(int count) {
    must(mtask_forkserver_start(NULL), "fork server");
    double figure = us_each(start_by_server, count);
    must(mtask_forkserver_stop(), "fork server");
    return figure;
}

static double forkserver_start_join(void) {
    return with_server(500);
}

static void fork_and_wait(void) {
    pid_t pid = fork();
    expect(pid >= 0, "fork");
    if (pid == 0)
        _exit(0);
    bare_wait(pid);
}

static double fork_waitpid(void) {
    return us_each(fork_and_wait, 1000);
}

/* Pages are written to, so that a fork has to copy what says where they are. */
static void be_big(void) {
    char *memory = mmap(NULL, BIG, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    expect(memory != MAP_FAILED, "mmap");
    (void)madvise(memory, BIG, MADV_NOHUGEPAGE);
    memset(memory, 1, BIG);
}

static double big_forkserver_join(void) {
    be_big();
    return with_server(200);
}
static double big_fork_waitpid(void) {
    be_big();
    return us_each(fork_and_wait, 40);
}

/* ---- commands ---- */

static const char *const true_argv[] = {"/bin/true", NULL};
static const char *const echo_argv[] = {"/bin/echo", "hello", NULL};
static const char *const head_argv[] = {"head", "-c", "268435456", "/dev/zero", NULL};

#define HEAD_BYTES 268435456

static void one_true(void) {
    mtask_cmd_result result;
    must(mtask_cmd_run(true_argv, NULL, &result), "run");
    expect(result.code == 0, "true");
    mtask_cmd_result_free(&result);
}

static double run_true(void) {
    return us_each(one_true, 500);
}

static void one_echo(void) {
    mtask_cmd_opts options = {.capture = true};
    mtask_cmd_result result;
    must(mtask_cmd_run(echo_argv, &options, &result), "run");
    expect(result.code == 0 && result.out.size == 6, "echo");
    mtask_cmd_result_free(&result);
}

static double run_capture(void) {
    return us_each(one_echo, 500);
}

static double capture(void) {
    mtask_cmd_opts options = {.out = MTASK_CMD_PIPE};
    mtask_cmd_result result;
    double start = bench_now_ns();
    must(mtask_cmd_run(head_argv, &options, &result), "run");
    double lasted = bench_now_ns() - start;
    expect(result.code == 0 && result.out.size == HEAD_BYTES, "head");
    mtask_cmd_result_free(&result);
    return HEAD_BYTES / lasted;
}

extern char **environ;

/* `output` (-1: as it is here) becomes its standard output. */
static pid_t spawn(const char *const argv[], int output) {
    posix_spawn_file_actions_t actions;
    char *args[8];
    pid_t pid = -1;
    size_t count = 0;
    for (; argv[count] != NULL; count++)
        args[count] = (char *)(uintptr_t)argv[count];
    args[count] = NULL;
    expect(posix_spawn_file_actions_init(&actions) == 0 &&
               (output < 0 ||
                posix_spawn_file_actions_adddup2(&actions, output, STDOUT_FILENO) == 0) &&
               posix_spawnp(&pid, args[0], &actions, NULL, args, environ) == 0,
           "posix_spawn");
    posix_spawn_file_actions_destroy(&actions);
    return pid;
}

static void spawn_true(void) {
    bare_wait(spawn(true_argv, -1));
}

static double spawn_waitpid(void) {
    return us_each(spawn_true, 500);
}

static size_t read_all(const char *const argv[]) {
    static char block[65536];
    size_t total = 0;
    ssize_t n;
    int ends[2];
    expect(pipe2(ends, O_CLOEXEC) == 0, "pipe");
    pid_t pid = spawn(argv, ends[1]);
    close(ends[1]);
    while ((n = read(ends[0], block, sizeof block)) > 0)
        total += (size_t)n;
    close(ends[0]);
    bare_wait(pid);
    return total;
}

static void spawn_echo(void) {
    expect(read_all(echo_argv) == 6, "echo");
}

static double spawn_read(void) {
    return us_each(spawn_echo, 500);
}

static double spawn_read_head(void) {
    double start = bench_now_ns();
    expect(read_all(head_argv) == HEAD_BYTES, "head");
    return HEAD_BYTES / (bench_now_ns() - start);
}

/* ---- pools ---- */

#define IN_FLIGHT     10000
#define MAP_ITEMS     100000
#define BIG_IN_FLIGHT 16

static mtask_procpool *pool;
static mtask_future *futures[IN_FLIGHT];

static mtask_status same(const void *in, size_t size, mtask_buf *out) {
    return mtask_buf_append(out, in, size);
}

static void open_pool(void) {
    mtask_procpool_desc desc = {.workers = workers()};
    must(mtask_procpool_create(&pool, &desc), "create");
}

static void close_pool(void) {
    must(mtask_procpool_destroy(pool), "destroy");
}

static double in_pool(void (*once)(void), int count) {
    open_pool();
    double figure = us_each(once, count);
    close_pool();
    return figure;
}

/* Waits for a task whose result is so long, and returns it; it lives as long as the future. */
static const void *result_of(mtask_future *future, size_t size) {
    mtask_outcome outcome;
    size_t got;
    must(mtask_future_get(future, &outcome, MTASK_FOREVER), "get");
    const void *data = mtask_future_bytes(future, &got);
    expect(got == size, "a wrong result");
    return data;
}

static void submit_batch(void) {
    for (int64_t i = 0; i < IN_FLIGHT; i++)
        must(mtask_procpool_submit(pool, same, &i, sizeof i, &futures[i]), "submit");
    for (int64_t i = 0; i < IN_FLIGHT; i++) {
        expect(memcmp(result_of(futures[i], sizeof i), &i, sizeof i) == 0, "a wrong result");
        mtask_future_release(futures[i]);
    }
}

static double procpool_submit(void) {
    return in_pool(submit_batch, 10) / IN_FLIGHT;
}

static void call_once(void) {
    int64_t number = 1;
    must(mtask_procpool_call(pool, same, &number, sizeof number, NULL, NULL, MTASK_FOREVER),
         "call");
}

static double procpool_roundtrip(void) {
    return in_pool(call_once, 5000);
}

static void submit_big(void) {
    static char block[MIB];
    for (int i = 0; i < BIG_IN_FLIGHT; i++)
        must(mtask_procpool_submit(pool, same, block, sizeof block, &futures[i]), "submit");
    for (int i = 0; i < BIG_IN_FLIGHT; i++) {
        (void)result_of(futures[i], sizeof block);
        mtask_future_release(futures[i]);
    }
}

static double procpool_big(void) {
    return in_pool(submit_big, 20) / BIG_IN_FLIGHT;
}

static void map_once(void) {
    static int64_t in[MAP_ITEMS], out[MAP_ITEMS];
    mtask_procmap_desc desc = {.fn = same,
                               .count = MAP_ITEMS,
                               .in = in,
                               .in_size = sizeof in[0],
                               .out = out,
                               .out_size = sizeof out[0],
                               .chunk = 1};
    for (int64_t i = 0; i < MAP_ITEMS; i++) {
        in[i] = i + 1;
        out[i] = 0;
    }
    must(mtask_procpool_map(pool, &desc, NULL, MTASK_FOREVER), "map");
    expect(memcmp(in, out, sizeof in) == 0, "a wrong result");
}

static double procpool_map(void) {
    return in_pool(map_once, 4) / MAP_ITEMS;
}

static void open_and_close(void) {
    open_pool();
    must(mtask_procpool_close(pool), "close");
    must(mtask_procpool_join(pool, MTASK_FOREVER), "join");
    close_pool();
}

static double procpool_start(void) {
    return us_each(open_and_close, 50);
}

static double fork_workers(void) {
    return fork_waitpid() * workers();
}

/* KiB of memory, of which what is shared counts in equal parts. */
static double pss_kib(pid_t pid) {
    char line[256];
    double figure = (double)NAN;
    snprintf(line, sizeof line, "/proc/%ld/smaps_rollup", (long)pid);
    FILE *file = fopen(line, "r");
    expect(file != NULL, line);
    while (fgets(line, sizeof line, file) != NULL && sscanf(line, "Pss: %lf", &figure) != 1)
        ;
    fclose(file);
    return figure;
}

static double procpool_worker_kib(void) {
    double sum = 0;
    pid_t pids[256];
    open_pool();
    submit_batch();
    size_t count = mtask_procpool_pids(pool, pids, BENCH_LENGTH(pids));
    for (size_t i = 0; i < count; i++)
        sum += pss_kib(pids[i]);
    close_pool();
    return sum / (double)count;
}

/* ---- shared memory ---- */

#define SHARED_ITEMS 1000000
#define ADDITIONS    1000000

static mtask_arena arena;
static mtask_queue queue;

static void *produce(void *unused) {
    bind_to(far_cpu);
    for (int64_t i = 0; i < SHARED_ITEMS; i++)
        must(mtask_queue_put(&queue, &i, MTASK_FOREVER), "put");
    return unused;
}

static void open_queue(void) {
    mtask_queue_desc desc = {.capacity = 1024, .item_size = 8, .flags = MTASK_SHARED};
    desc.storage_size = mtask_queue_storage_size(&desc);
    must(mtask_arena_create(&arena, NULL, 2 * desc.storage_size), "arena");
    must(mtask_arena_alloc(&arena, desc.storage_size, &desc.storage), "alloc");
    must(mtask_queue_init(&queue, &desc), "queue");
}

static double shared_queue(void) {
    int64_t item, sum = 0;
    mtask_proc *process;
    open_queue();
    must(mtask_proc_start(&process, produce, NULL), "start");
    bind_to(0);
    must(mtask_queue_get(&queue, &item, MTASK_FOREVER), "get");
    double start = bench_now_ns();
    for (int64_t i = 1; i < SHARED_ITEMS; i++) {
        must(mtask_queue_get(&queue, &item, MTASK_FOREVER), "get");
        sum += item;
    }
    double figure = (bench_now_ns() - start) / (SHARED_ITEMS - 1);
    must(mtask_proc_join(process, NULL, MTASK_FOREVER), "join");
    expect(sum == (int64_t)SHARED_ITEMS * (SHARED_ITEMS - 1) / 2, "items got lost");
    must(mtask_proc_close(process), "close");
    must(mtask_arena_close(&arena), "close");
    return figure;
}

static double shared_value(void) {
    mtask_array array;
    must(mtask_array_create(&array, NULL, 1, sizeof(int64_t)), "array");
    int64_t *value = mtask_array_data(&array);
    double start = bench_now_ns();
    for (int i = 0; i < ADDITIONS; i++) {
        must(mtask_array_lock(&array, MTASK_FOREVER), "lock");
        ++*value;
        must(mtask_array_unlock(&array), "unlock");
    }
    double figure = (bench_now_ns() - start) / ADDITIONS;
    expect(*value == ADDITIONS, "a wrong sum");
    must(mtask_array_close(&array), "close");
    return figure;
}

static double robust_mutex(void) {
    pthread_mutex_t *mutex = share(sizeof *mutex);
    pthread_mutexattr_t attributes;
    volatile int64_t value = 0;
    expect(pthread_mutexattr_init(&attributes) == 0 &&
               pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST) == 0 &&
               pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED) == 0 &&
               pthread_mutex_init(mutex, &attributes) == 0,
           "mutex");
    double start = bench_now_ns();
    for (int i = 0; i < ADDITIONS; i++) {
        expect(pthread_mutex_lock(mutex) == 0, "lock");
        value++;
        expect(pthread_mutex_unlock(mutex) == 0, "unlock");
    }
    return (bench_now_ns() - start) / ADDITIONS;
}

/* ---- rings: one producer, one consumer, who never sleep ---- */

#define RING_SLOTS 1024
#define RING_ITEMS 2000000

typedef struct ring {
    _Alignas(LINE) _Atomic uint64_t tail; /* items put */
    _Alignas(LINE) _Atomic uint64_t head; /* items taken */
    _Alignas(LINE) uint64_t items[RING_SLOTS][8];
} ring;

/* An end, which remembers where the other one was when it last looked. */
typedef struct ring_end {
    ring *on;
    uint64_t at, until;
} ring_end;

BENCH_MERGED bool ring_try_put(ring_end *end, uint64_t item, unsigned width) {
    if (end->at == end->until) {
        end->until = atomic_load_explicit(&end->on->head, memory_order_acquire) + RING_SLOTS;
        if (end->at == end->until)
            return false;
    }
    for (unsigned w = 0; w < width; w++)
        (&end->on->items[0][0])[end->at % RING_SLOTS * width + w] = item;
    atomic_store_explicit(&end->on->tail, ++end->at, memory_order_release);
    return true;
}

BENCH_MERGED bool ring_try_get(ring_end *end, uint64_t *item, unsigned width) {
    if (end->at == end->until) {
        end->until = atomic_load_explicit(&end->on->tail, memory_order_acquire);
        if (end->at == end->until)
            return false;
    }
    for (unsigned w = 0; w < width; w++)
        *item = (&end->on->items[0][0])[end->at % RING_SLOTS * width + w];
    atomic_store_explicit(&end->on->head, ++end->at, memory_order_release);
    return true;
}

static ring_end putter(ring *on) {
    return (ring_end){on, 0, RING_SLOTS};
}
static ring_end getter(ring *on) {
    return (ring_end){on, 0, 0};
}

static void ring_produce(void *on) {
    ring_end end = putter(on);
    for (uint64_t i = 0; i < RING_ITEMS; i++)
        while (!ring_try_put(&end, i, 1))
            ;
}

static double one_ring(void) {
    ring *there = share(sizeof *there);
    ring_end end = getter(there);
    uint64_t item, sum = 0;
    pid_t child = bare_child(ring_produce, there);
    double start = 0;
    for (int i = 0; i < RING_ITEMS; i++) {
        while (!ring_try_get(&end, &item, 1))
            ;
        if (i == 0)
            start = bench_now_ns();
        sum += item;
    }
    double figure = (bench_now_ns() - start) / (RING_ITEMS - 1);
    bare_wait(child);
    expect(sum == (uint64_t)RING_ITEMS * (RING_ITEMS - 1) / 2, "items got lost");
    return figure;
}

static void ring_answer(void *rings) {
    ring_end in = getter(rings), out = putter((ring *)rings + 1);
    uint64_t item;
    for (uint64_t i = 0; i < RING_ITEMS; i++) {
        while (!ring_try_get(&in, &item, 8))
            ;
        while (!ring_try_put(&out, item, 8))
            ;
    }
}

/* us for an item there and back. */
static double two_rings(void) {
    ring *rings = share(2 * sizeof *rings);
    ring_end out = putter(&rings[0]), in = getter(&rings[1]);
    uint64_t item, sum = 0;
    pid_t child = bare_child(ring_answer, rings);
    double start = 0;
    while (in.at < RING_ITEMS) {
        if (out.at < RING_ITEMS && out.at < in.at + RING_SLOTS)
            (void)ring_try_put(&out, out.at, 8);
        if (!ring_try_get(&in, &item, 8))
            continue;
        if (in.at == 1)
            start = bench_now_ns();
        sum += item;
    }
    double figure = (bench_now_ns() - start) / (RING_ITEMS - 1) / 1e3;
    bare_wait(child);
    expect(sum == (uint64_t)RING_ITEMS * (RING_ITEMS - 1) / 2, "items got lost");
    return figure;
}

/* ---- two processes that wake each other ---- */

#define WAKES 5000

static uint32_t *turn_word;

static void await_turn(uint32_t wanted) {
    uint32_t now;
    while ((now = __atomic_load_n(turn_word, __ATOMIC_SEQ_CST)) != wanted)
        (void)syscall(SYS_futex, turn_word, FUTEX_WAIT, now, NULL, NULL, 0);
}

static void pass_turn(uint32_t to) {
    __atomic_store_n(turn_word, to, __ATOMIC_SEQ_CST);
    (void)syscall(SYS_futex, turn_word, FUTEX_WAKE, 1, NULL, NULL, 0);
}

static void answer_turns(void *unused) {
    (void)unused;
    for (;;) {
        await_turn(1);
        pass_turn(0);
    }
}

static void take_turn(void) {
    pass_turn(1);
    await_turn(0);
}

static double two_wakes(void) {
    turn_word = share(sizeof *turn_word);
    pid_t child = bare_child(answer_turns, NULL);
    double figure = us_each(take_turn, WAKES);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    return figure;
}

/* ---- pipes ---- */

#define MESSAGE    16
#define ROUNDTRIPS 10000
#define BLOCKS     1500

static mtask_conn *near, *far;

static void *answer_all(void *unused) {
    char message[MESSAGE];
    size_t size;
    bind_to(far_cpu);
    must(mtask_conn_close(near), "close");
    while (mtask_conn_recv_into(far, message, sizeof message, &size, MTASK_FOREVER) == MTASK_OK)
        must(mtask_conn_send(far, message, size, MTASK_FOREVER), "send");
    return unused;
}

static void there_and_back(void) {
    char message[MESSAGE] = "sixteen bytes..";
    size_t size;
    must(mtask_conn_send(near, message, sizeof message, MTASK_FOREVER), "send");
    must(mtask_conn_recv_into(near, message, sizeof message, &size, MTASK_FOREVER), "receive");
    expect(size == sizeof message, "a wrong answer");
}

/* Starts the process at the far end. */
static mtask_proc *start_far(mtask_fn fn, bool duplex) {
    mtask_proc *process;
    must(mtask_pipe(&near, &far, duplex), "pipe");
    must(mtask_proc_start(&process, fn, NULL), "start");
    must(mtask_conn_close(far), "close");
    bind_to(0);
    return process;
}

static void end_far(mtask_proc *process) {
    must(mtask_conn_close(near), "close");
    must(mtask_proc_join(process, NULL, MTASK_FOREVER), "join");
    must(mtask_proc_close(process), "close");
}

static double pipe_roundtrip(void) {
    mtask_proc *process = start_far(answer_all, true);
    double figure = us_each(there_and_back, ROUNDTRIPS);
    end_far(process);
    return figure;
}

static double pipe_1cpu(void) {
    far_cpu = 0;
    return pipe_roundtrip();
}

static char block[MIB];

static void *send_blocks(void *unused) {
    bind_to(far_cpu);
    must(mtask_conn_close(near), "close");
    memset(block, 1, sizeof block);
    for (int i = 0; i < BLOCKS; i++)
        must(mtask_conn_send(far, block, sizeof block, MTASK_FOREVER), "send");
    return unused;
}

static double pipe_with(bool duplex) {
    mtask_proc *process = start_far(send_blocks, duplex);
    mtask_buf message = {0};
    double start = 0;
    for (int i = 0; i < BLOCKS; i++) {
        must(mtask_conn_recv(near, &message, MTASK_FOREVER), "receive");
        expect(message.size == MIB, "a wrong message");
        if (i == 0)
            start = bench_now_ns();
    }
    double figure = (double)MIB * (BLOCKS - 1) / (bench_now_ns() - start);
    mtask_buf_free(&message);
    end_far(process);
    return figure;
}

static double pipe_duplex(void) {
    return pipe_with(true);
}
static double pipe_oneway(void) {
    return pipe_with(false);
}

static int sockets[2];

static void bare_answer(void *unused) {
    char message[MESSAGE];
    (void)unused;
    close(sockets[0]);
    while (read(sockets[1], message, sizeof message) == sizeof message)
        expect(write(sockets[1], message, sizeof message) == sizeof message, "write");
}

static void bare_there_and_back(void) {
    char message[MESSAGE] = "sixteen bytes..";
    expect(write(sockets[0], message, sizeof message) == sizeof message &&
               read(sockets[0], message, sizeof message) == sizeof message,
           "socketpair");
}

/* A child with the other end of a pair of sockets. */
static pid_t bare_far(int type, void (*run)(void *)) {
    expect(socketpair(AF_UNIX, type, 0, sockets) == 0, "socketpair");
    pid_t child = bare_child(run, NULL);
    close(sockets[1]);
    return child;
}

static double socket_roundtrip(void) {
    pid_t child = bare_far(SOCK_SEQPACKET, bare_answer);
    double figure = us_each(bare_there_and_back, ROUNDTRIPS);
    close(sockets[0]);
    bare_wait(child);
    return figure;
}

static double socket_1cpu(void) {
    far_cpu = 0;
    return socket_roundtrip();
}

static void send_block(int fd) {
    for (size_t sent = 0; sent < MIB;) {
        ssize_t n = send(fd, block + sent, MIB - sent, MSG_NOSIGNAL);
        expect(n > 0, "send");
        sent += (size_t)n;
    }
}

static bool receive_block(int fd) {
    return recv(fd, block, MIB, MSG_WAITALL) == (ssize_t)MIB;
}

static void bare_send_blocks(void *unused) {
    (void)unused;
    memset(block, 1, sizeof block);
    for (int i = 0; i < BLOCKS; i++)
        send_block(sockets[1]);
}

/* GB/s. */
static double one_stream(void) {
    pid_t child = bare_far(SOCK_STREAM, bare_send_blocks);
    expect(receive_block(sockets[0]), "recv");
    double start = bench_now_ns();
    for (int i = 1; i < BLOCKS; i++)
        expect(receive_block(sockets[0]), "recv");
    double figure = (double)MIB * (BLOCKS - 1) / (bench_now_ns() - start);
    bare_wait(child);
    return figure;
}

static void bare_return_blocks(void *unused) {
    (void)unused;
    close(sockets[0]);
    while (receive_block(sockets[1]))
        send_block(sockets[1]);
}

static void block_there_and_back(void) {
    send_block(sockets[0]);
    expect(receive_block(sockets[0]), "recv");
}

/* us for a MiB there and back. */
static double two_streams(void) {
    pid_t child = bare_far(SOCK_STREAM, bare_return_blocks);
    double figure = us_each(block_there_and_back, 300);
    close(sockets[0]);
    bare_wait(child);
    return figure;
}

/* ---- examples/parallel.c against xargs ---- */

#define NUMBERS  "seq 2000 | "
#define SCRIPTS  "seq 2000 | sed 's/.*/echo $((&))/' | " /* what must go through a shell */
#define PARALLEL "build/bench/parallel -j 2 "
#define XARGS    "xargs -d '\\n' -P 2 -n 1 "

/* Seconds. The output of all must be there, in whatever order. */
static double tool(const char *commands) {
    char line[256];
    snprintf(line, sizeof line, "test $(%s | sort -u | wc -l) = 2000", commands);
    double start = bench_now_ns();
    if (system(line) != 0)
        return (double)NAN;
    return (bench_now_ns() - start) / 1e9;
}

static double tool_of_ours(const char *commands) {
    return access("build/bench/parallel", X_OK) == 0 ? tool(commands) : (double)NAN;
}

static double parallel_tool(void) {
    return tool_of_ours(NUMBERS PARALLEL "/bin/echo");
}
static double parallel_xargs(void) {
    return tool(NUMBERS XARGS "/bin/echo");
}

static double parallel_shell(void) {
    return tool_of_ours(SCRIPTS PARALLEL);
}
static double parallel_shell_xargs(void) {
    return tool(SCRIPTS XARGS "sh -c");
}

/* ---- PROGRAM run FIGURE: what is measured in a process of its own ---- */

typedef struct source {
    const char *name;
    double (*run)(void);
    bool bare; /* without mtask */
} source;

static const source sources[] = {
    {"process_start_join", process_start_join, false},
    {"spawn_start_join", spawn_start_join, false},
    {"forkserver_start_join", forkserver_start_join, false},
    {"big_forkserver_join", big_forkserver_join, false},
    {"run_true", run_true, false},
    {"run_capture", run_capture, false},
    {"capture", capture, false},
    {"procpool_submit", procpool_submit, false},
    {"procpool_roundtrip", procpool_roundtrip, false},
    {"procpool_big", procpool_big, false},
    {"procpool_map", procpool_map, false},
    {"procpool_start", procpool_start, false},
    {"procpool_worker_kib", procpool_worker_kib, false},
    {"shared_queue", shared_queue, false},
    {"shared_value", shared_value, false},
    {"pipe_roundtrip", pipe_roundtrip, false},
    {"pipe_1cpu", pipe_1cpu, false},
    {"pipe_duplex", pipe_duplex, false},
    {"pipe_oneway", pipe_oneway, false},
    {"fork_waitpid", fork_waitpid, true},
    {"big_fork_waitpid", big_fork_waitpid, true},
    {"fork_workers", fork_workers, true},
    {"spawn_waitpid", spawn_waitpid, true},
    {"spawn_read", spawn_read, true},
    {"spawn_read_head", spawn_read_head, true},
    {"robust_mutex", robust_mutex, true},
    {"one_ring", one_ring, true},
    {"two_rings", two_rings, true},
    {"two_wakes", two_wakes, true},
    {"socket_roundtrip", socket_roundtrip, true},
    {"socket_1cpu", socket_1cpu, true},
    {"one_stream", one_stream, true},
    {"two_streams", two_streams, true},
};

static int run_source(const char *name, int argc, char **argv) {
    for (size_t i = 0; i < BENCH_LENGTH(sources); i++)
        if (strcmp(sources[i].name, name) == 0) {
            if (!sources[i].bare)
                mtask_proc_init(argc, argv);
            expect(sched_getaffinity(0, sizeof cpus, &cpus) == 0, "sched_getaffinity");
            bench__be_threaded();
            printf("%.6f\n", sources[i].run());
            return 0;
        }
    fprintf(stderr, "bench_proc: no figure '%s'\n", name);
    return 2;
}

/* ---- the table ---- */

/* Their names, with their versions if they are there. */
static char python[48] = "Python", go[48] = "Go os/exec", rust[48] = "Rust Command",
            xargs[48] = "xargs";

#define PEER(name) "build/bench/peer_proc_" name

/* Appends the version that the command prints. */
static void name_peer(char name[48], const char *command) {
    char text[128] = "", version[12] = "";
    FILE *output = popen(command, "r");
    if (output == NULL)
        return;
    if (fgets(text, sizeof text, output) != NULL)
        sscanf(text + strcspn(text, "0123456789"), "%11[0-9.]", version);
    pclose(output);
    if (version[0] != '\0')
        strcat(strcat(name, " "), version);
}

static void prepare(void) {
    static char self[512];
    ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
    expect(length > 0 && setenv("MTASK_BENCH_SELF", self, 1) == 0, "/proc/self/exe");
    name_peer(python, PEER("python") " version 2>/dev/null");
    name_peer(go, PEER("go") " version 2>/dev/null");
    name_peer(rust, PEER("rust") " version 2>/dev/null");
    name_peer(xargs, "xargs --version 2>/dev/null");
}

#define COMMAND(name_, command_)                                                                   \
 { .name = (name_), .command = (command_) }
#define FROM(name_, run_)                                                                          \
 { .name = (name_), .run = (run_) }
#define RUN(name_, source) COMMAND(name_, "exec timeout 100 \"$MTASK_BENCH_SELF\" run " source)
#define OURS(source)       RUN("mtask", source)
#define PYTHON(figure)     COMMAND(python, PEER("python") " " figure)
#define GO(figure)         COMMAND(go, PEER("go") " " figure)
#define RUST(figure)       COMMAND(rust, PEER("rust") " " figure)
#define FORKED             RUN("fork, waitpid", "fork_waitpid")
#define SPAWNED            RUN("posix_spawn", "spawn_waitpid")
#define NO_LIMIT           FROM(NULL, NULL)

static const bench_case cases[] = {
    {"process_start_join", "us", OURS("process_start_join"), FORKED, NO_LIMIT, 1.3, 0, NULL},
    {"process_start_join", "us", OURS("process_start_join"), PYTHON("process_start_join"), FORKED,
     0, 5, NULL},
    {"spawn_start_join", "us", OURS("spawn_start_join"), PYTHON("spawn_start_join"), SPAWNED, 0, 5,
     NULL},
    {"forkserver_start_join", "us", OURS("forkserver_start_join"), PYTHON("forkserver_start_join"),
     FORKED, 0, 5, NULL},
    {"big_forkserver_join", "us", OURS("big_forkserver_join"),
     RUN("fork, waitpid", "big_fork_waitpid"), NO_LIMIT, 0, 5, NULL},
    {"run_true", "us", OURS("run_true"), SPAWNED, NO_LIMIT, 1.1, 0, NULL},
    {"run_true", "us", OURS("run_true"), RUST("run_true"), SPAWNED, 0, 5, NULL},
    {"run_true", "us", OURS("run_true"), GO("run_true"), SPAWNED, 0, 5, NULL},
    {"run_true", "us", OURS("run_true"), PYTHON("run_true"), SPAWNED, 0, 5, NULL},
    {"run_capture", "us", OURS("run_capture"), RUN("spawn, read", "spawn_read"), NO_LIMIT, 0, 0,
     NULL},
    {"run_capture", "us", OURS("run_capture"), RUST("run_capture"), NO_LIMIT, 0, 5, NULL},
    {"run_capture", "us", OURS("run_capture"), GO("run_capture"), NO_LIMIT, 0, 5, NULL},
    {"run_capture", "us", OURS("run_capture"), PYTHON("run_capture"), NO_LIMIT, 0, 5, NULL},
    {"capture_GB_per_s", "GB/s", OURS("capture"), PYTHON("capture_GB_per_s"),
     RUN("spawn, read", "spawn_read_head"), 0, 5, NULL},
    {"procpool_submit", "us", OURS("procpool_submit"), PYTHON("procpool_submit"),
     RUN("2 rings", "two_rings"), 0.03, 0, NULL},
    {"procpool_map", "us", OURS("procpool_map"), PYTHON("procpool_map"),
     RUN("2 rings", "two_rings"), 0.05, 0, NULL},
    {"procpool_roundtrip", "us", OURS("procpool_roundtrip"), PYTHON("procpool_roundtrip"),
     RUN("2 wakes", "two_wakes"), 0, 5, NULL},
    {"procpool_1MiB", "us", OURS("procpool_big"), PYTHON("procpool_1MiB"),
     RUN("2 streams", "two_streams"), 0, 5, NULL},
    {"procpool_start", "us", OURS("procpool_start"), PYTHON("procpool_start"),
     RUN("as many forks", "fork_workers"), 0, 5, NULL},
    {"procpool_worker_KiB", "KiB", OURS("procpool_worker_kib"), PYTHON("procpool_worker_KiB"),
     NO_LIMIT, 0, 5, NULL},
    {"shared_queue", "ns", OURS("shared_queue"), PYTHON("shared_queue"), RUN("ring", "one_ring"),
     0.05, 0, NULL},
    {"shared_value", "ns", OURS("shared_value"), PYTHON("shared_value"),
     RUN("robust mutex", "robust_mutex"), 0, 5, NULL},
    {"pipe_roundtrip", "us", OURS("pipe_roundtrip"), RUN("socketpair", "socket_roundtrip"),
     RUN("2 wakes", "two_wakes"), 1.1, 0, NULL},
    {"pipe_roundtrip", "us", OURS("pipe_roundtrip"), PYTHON("pipe_roundtrip"),
     RUN("2 wakes", "two_wakes"), 0, 5, NULL},
    {"pipe_roundtrip_1cpu", "us", OURS("pipe_1cpu"), RUN("socketpair", "socket_1cpu"), NO_LIMIT, 0,
     5, NULL},
    {"pipe_GB_per_s", "GB/s", OURS("pipe_duplex"), PYTHON("pipe_GB_per_s"),
     RUN("1 stream", "one_stream"), 1.5, 0, NULL},
    {"pipe_oneway_GB_per_s", "GB/s", OURS("pipe_oneway"), PYTHON("pipe_oneway_GB_per_s"),
     RUN("1 stream", "one_stream"), 0, 5, NULL},
    {"parallel_tool", "s", FROM("mtask", parallel_tool), FROM(xargs, parallel_xargs), NO_LIMIT,
     1.05, 5, NULL},
    {"parallel_shell", "s", FROM("mtask", parallel_shell), FROM(xargs, parallel_shell_xargs),
     NO_LIMIT, 0, 5, NULL},
};

int main(int argc, char **argv) {
    if (argc == 3 && strcmp(argv[1], "run") == 0)
        return run_source(argv[2], argc, argv);
    mtask_proc_init(argc, argv);
    prepare();
    return bench_main("proc", cases, BENCH_LENGTH(cases), argc, argv);
}
