/* cc -std=c11 -O2 -pthread -I. tests/bench/bench_pool.c -o bench_pool -lm
   (better: tests/bench/run.sh pool, which builds the peers, writes the table and draws the chart)

   The pools of mtask_pool.h against those of oneTBB, OpenMP, Go, Java and Python, and pgzip against
   pigz. Each peer is a program, peer_pool_NAME.*, which has the same loops; what is computed in
   loops lies in pool_work.h, for ours and for the peers in C and C++. Threads are not bound to CPUs.
   Every side warms up in the same process before its measured run, and checks its results.

   MTASK_BENCH_WORKERS is the number of workers, ours and the peers' (default 2). TBB and OpenMP
   count the calling thread among them, Go all that runs; with us and with Java the caller comes on
   top: it sleeps while it waits, but where it submits from outside it takes part.

   THE LIMITS. `ideal` is the same work on one thread, without any tasks, divided by the number of
   workers, or of CPUs if these are fewer. For forkjoin_fib that is two plain calls for each task; in
   forkjoin_fib_1worker, ours minus the peer is what a job costs beside the calls. `2 transfers`: a
   word goes to another CPU and comes back changed, which is the least for a task and its result.

   With more than four CPUs, or if MTASK_BENCH_SCALING is set, build/bench/pool_scaling.tsv receives
   forkjoin_fib and uneven_tasks for 1, 2, 3 ... workers: ours and TBB's. */

#define MTASK_IMPLEMENTATION
#include "mtask_pool.h"

#include "bench.h"
#include "turns.h"
#include "pool_work.h"

#include <sys/stat.h>

/* ---- what can go wrong ---- */

static void must(mtask_status status, const char *what) {
    if (status == MTASK_OK)
        return;
    fprintf(stderr, "benchmark: %s: %s\n", what, mtask_strerror(status));
    exit(1);
}

static mtask_pool *open_pool(unsigned workers) {
    mtask_pool_desc desc = {.workers = workers};
    mtask_pool *pool;
    must(mtask_pool_create(&pool, &desc), "create");
    return pool;
}

static void close_pool(mtask_pool *pool) {
    must(mtask_pool_destroy(pool), "destroy");
}

/* How many workers can run at a time. */
static unsigned cpus(void) {
    return work_threads() < mtask_cpu_count() ? work_threads() : mtask_cpu_count();
}

/* What fn(arg) returns, as a task of the pool. */
static void *run_in(mtask_pool *pool, mtask_fn fn, void *arg) {
    mtask_future *future;
    mtask_outcome outcome;
    must(mtask_pool_submit(pool, fn, arg, &future), "submit");
    must(mtask_future_get(future, &outcome, MTASK_FOREVER), "get");
    mtask_future_release(future);
    return outcome.value;
}

/* ---- fork-join ---- */

#define FIB_REPEATS 20

static uint64_t steals; /* in the latest run */

WORK_CALLED void *fib_task(void *arg) {
    intptr_t n = (intptr_t)arg;
    mtask_job job;
    void *a, *b;
    if (n < 2)
        return arg;
    mtask_job_spawn(&job, fib_task, (void *)(n - 1));
    b = fib_task((void *)(n - 2));
    if (mtask_job_sync(&job, &a) != MTASK_OK)
        return a;
    return (void *)((intptr_t)a + (intptr_t)b);
}

/* The barriers keep the compiler from making a loop of one of the calls. */
WORK_CALLED long fib_plain(long n) {
    if (n < 2)
        return n;
    long a = fib_plain(n - 1);
    BENCH_BARRIER();
    long b = fib_plain(n - 2);
    BENCH_BARRIER();
    return a + b;
}

static double fib_with(unsigned workers) {
    mtask_pool *pool = open_pool(workers);
    mtask_pool_stats before, after;
    for (int i = 0; i < FIB_REPEATS / 4; i++)
        run_in(pool, fib_task, (void *)FIB_N);
    must(mtask_pool_get_stats(pool, &before, NULL, 0), "stats");
    double start = bench_now_ns();
    for (int i = 0; i < FIB_REPEATS; i++)
        work_expect((uint64_t)(intptr_t)run_in(pool, fib_task, (void *)FIB_N), FIB_RESULT);
    double lasted = bench_now_ns() - start;
    must(mtask_pool_get_stats(pool, &after, NULL, 0), "stats");
    steals = after.stolen - before.stolen;
    close_pool(pool);
    return lasted / FIB_REPEATS / FIB_TASKS;
}

static double forkjoin_fib(void) {
    return fib_with(work_threads());
}
static double forkjoin_fib_1worker(void) {
    return fib_with(1);
}

static double fib_calls(void) {
    double start = bench_now_ns();
    for (int i = 0; i < FIB_REPEATS / 4; i++)
        work_expect((uint64_t)fib_plain(FIB_N), FIB_RESULT);
    return (bench_now_ns() - start) / (FIB_REPEATS / 4) / FIB_TASKS;
}

static double fib_calls_shared(void) {
    return fib_calls() / cpus();
}

static void note_steals(void) {
    printf("    %.1f of %d jobs were stolen; peer and ours are one fib(%d), again and again\n",
           (double)steals / FIB_REPEATS, FIB_TASKS, FIB_N);
}

/* ---- tasks from outside ---- */

#define EMPTY_TASKS 1000000
#define BATCH       100000
#define BATCHES     10
#define ROUNDTRIPS  50000

static void *nothing(void *arg) {
    return arg;
}

static double post_all(mtask_pool *pool, int tasks) {
    mtask_group group;
    must(mtask_group_init(&group, pool, 0), "group");
    double start = bench_now_ns();
    for (int i = 0; i < tasks; i++)
        must(mtask_group_post(&group, nothing, NULL), "post");
    must(mtask_group_wait(&group, NULL, MTASK_FOREVER), "wait");
    return (bench_now_ns() - start) / tasks;
}

static double submit_empty(void) {
    mtask_pool *pool = open_pool(work_threads());
    post_all(pool, EMPTY_TASKS / 4);
    double figure = post_all(pool, EMPTY_TASKS);
    close_pool(pool);
    return figure;
}

static void submit_batch(mtask_pool *pool, mtask_future **futures, size_t count) {
    static char value;
    for (size_t i = 0; i < count; i++)
        must(mtask_pool_submit(pool, nothing, &value, &futures[i]), "submit");
    for (size_t i = 0; i < count; i++) {
        mtask_outcome outcome;
        must(mtask_future_get(futures[i], &outcome, MTASK_FOREVER), "get");
        work_expect(outcome.value == &value, 1);
        mtask_future_release(futures[i]);
    }
}

static double submit_future(void) {
    mtask_pool *pool = open_pool(work_threads());
    mtask_future **futures = malloc(BATCH * sizeof(mtask_future *));
    must(futures != NULL ? MTASK_OK : MTASK_NOMEM, "malloc");
    submit_batch(pool, futures, BATCH);
    double start = bench_now_ns();
    for (int i = 0; i < BATCHES; i++)
        submit_batch(pool, futures, BATCH);
    double lasted = bench_now_ns() - start;
    free(futures);
    close_pool(pool);
    return lasted / BATCHES / BATCH;
}

static double future_roundtrip(void) {
    mtask_pool *pool = open_pool(work_threads());
    for (int i = 0; i < ROUNDTRIPS / 4; i++)
        run_in(pool, nothing, NULL);
    double start = bench_now_ns();
    for (int i = 0; i < ROUNDTRIPS; i++)
        run_in(pool, nothing, NULL);
    double lasted = bench_now_ns() - start;
    close_pool(pool);
    return lasted / ROUNDTRIPS / 1000;
}

static double two_transfers(void) {
    return mtask_cpu_count() > 1 ? turns(false) : (double)NAN;
}
static double two_switches(void) {
    return turns(true);
}

/* The median of some runs. */
static double median_of(double (*run)(void)) {
    double figures[5];
    for (size_t i = 0; i < BENCH_LENGTH(figures); i++)
        figures[i] = run();
    return bench_summarize(figures, (int)BENCH_LENGTH(figures)).median;
}

static void note_switches(void) {
    printf("    two threads that sleep and wake each other need %.2f us for the same\n",
           median_of(two_switches));
}

/* ---- loops ---- */

static uint64_t values[UNEVEN_TASKS];

static void mandel_rows(size_t begin, size_t end, void *ctx) {
    (void)ctx;
    for (size_t row = begin; row < end; row++)
        values[row] = work_mandel_row(row);
}

static unsigned costs[UNEVEN_TASKS];

static void uneven_range(size_t begin, size_t end, void *ctx) {
    (void)ctx;
    for (size_t i = begin; i < end; i++)
        values[i] = work_uneven_task(costs[i]);
}

/* A loop, and what it comes to on one thread. */
typedef struct loop {
    void (*body)(size_t begin, size_t end, void *ctx);
    size_t end;
    int repeats;
    uint64_t sum;
} loop;

static loop mandel = {mandel_rows, MANDEL_ROWS, MANDEL_REPEATS, 0};
static loop uneven = {uneven_range, UNEVEN_TASKS, UNEVEN_REPEATS, 0};

/* Seconds for the loop if `threads` shared it and nothing else were to be done. */
static double loop_ideal(loop *which, unsigned threads) {
    work_make_costs(costs);
    double start = bench_now_ns();
    which->body(0, which->end, NULL);
    double lasted = bench_now_ns() - start;
    which->sum = work_sum(values, which->end);
    return lasted / threads / 1e9;
}

static double loop_with(loop *which, unsigned workers) {
    if (which->sum == 0)
        loop_ideal(which, 1);
    mtask_pool *pool = open_pool(workers);
    must(mtask_pool_for(pool, 0, which->end, which->body, NULL), "for");
    memset(values, 0, sizeof values);
    double start = bench_now_ns();
    for (int i = 0; i < which->repeats; i++)
        must(mtask_pool_for(pool, 0, which->end, which->body, NULL), "for");
    double lasted = bench_now_ns() - start;
    work_expect(work_sum(values, which->end), which->sum);
    close_pool(pool);
    return lasted / which->repeats / 1e9;
}

static double parallel_for(void) {
    return loop_with(&mandel, work_threads());
}
static double parallel_for_ideal(void) {
    return loop_ideal(&mandel, cpus());
}
static double uneven_tasks(void) {
    return loop_with(&uneven, work_threads());
}
static double uneven_ideal(void) {
    return loop_ideal(&uneven, cpus());
}

/* ---- map ---- */

#define MAP_ITEMS 4000000

static void square(const void *in, void *out, void *ctx) {
    (void)ctx;
    *(int64_t *)out = *(const int64_t *)in * *(const int64_t *)in;
}

static double map_ints(void) {
    int64_t *in = malloc(MAP_ITEMS * sizeof *in), *out = malloc(MAP_ITEMS * sizeof *out);
    mtask_map_desc desc = {.fn = square,
                           .count = MAP_ITEMS,
                           .in = in,
                           .in_size = sizeof *in,
                           .out = out,
                           .out_size = sizeof *out};
    mtask_pool *pool = open_pool(work_threads());
    must(in != NULL && out != NULL ? MTASK_OK : MTASK_NOMEM, "malloc");
    for (int64_t i = 0; i < MAP_ITEMS; i++)
        in[i] = i;
    must(mtask_pool_map(pool, &desc, NULL), "map");
    double start = bench_now_ns();
    must(mtask_pool_map(pool, &desc, NULL), "map");
    double lasted = bench_now_ns() - start;
    work_expect((uint64_t)out[MAP_ITEMS - 1], (uint64_t)(MAP_ITEMS - 1) * (MAP_ITEMS - 1));
    close_pool(pool);
    free(in);
    free(out);
    return lasted / MAP_ITEMS;
}

/* ---- pgzip against pigz ---- */

#define GZIP_BYTES "200000000"
#define GZIP_FILE  "build/bench/system_files"
#define GZIP_FIND  "find /usr/include /usr/lib /usr/share /usr/bin -type f -size -8M -print0"

/* The beginning of this system's own files, one after the other. */
static bool make_gzip_file(void) {
    struct stat info;
    if (stat(GZIP_FILE, &info) == 0 && info.st_size == atol(GZIP_BYTES))
        return true;
    if (system("mkdir -p build/bench && " GZIP_FIND " 2>/dev/null | LC_ALL=C sort -z | "
               "xargs -0 cat 2>/dev/null | head -c " GZIP_BYTES " >" GZIP_FILE) != 0)
        return false;
    return stat(GZIP_FILE, &info) == 0 && info.st_size == atol(GZIP_BYTES);
}

/* By the command in its first line, as a user does. */
static bool build_pgzip(void) {
    return access("examples/pgzip.c", R_OK) == 0 &&
           system("sh -c \"$(sed -n '1s,^// ,,p' examples/pgzip.c)\"") == 0 &&
           access("build/pgzip", X_OK) == 0;
}

/* `PROGRAM -p WORKERS -6 -c FILE TO`. */
static const char *gzip_command(char text[256], const char *program, const char *to) {
    snprintf(text, 256, "%s -p %u -6 -c " GZIP_FILE " %s", program, work_threads(), to);
    return text;
}

static double gzip_with(const char *program) {
    char command[256];
    double start = bench_now_ns();
    if (system(gzip_command(command, program, ">/dev/null")) != 0)
        return (double)NAN;
    return (bench_now_ns() - start) / 1e9;
}

static double pgzip(void) {
    static bool asked, built;
    if (!asked)
        built = build_pgzip();
    asked = true;
    return built && make_gzip_file() ? gzip_with("build/pgzip") : (double)NAN;
}

static double pigz(void) {
    return make_gzip_file() ? gzip_with("pigz") : (double)NAN;
}

/* Less compression would be faster. */
static void note_sizes(void) {
    char ours[256], peers[256];
    printf("    compressed: ours %.0f bytes, pigz %.0f, of %s\n",
           bench_command(gzip_command(ours, "build/pgzip", "| wc -c")),
           bench_command(gzip_command(peers, "pigz", "| wc -c")), GZIP_BYTES);
}

/* ---- scaling ---- */

#define SCALING_ROUNDS 5

typedef struct scaling_row {
    double ours[SCALING_ROUNDS], peer[SCALING_ROUNDS];
} scaling_row;

static void print_scaling(FILE *file, const scaling_row *row) {
    bench_summary ours = bench_summarize(row->ours, SCALING_ROUNDS);
    bench_summary peer = bench_summarize(row->peer, SCALING_ROUNDS);
    fprintf(file, "\t%.6g\t%.6g", ours.median, peer.median);
}

static void scale_to(FILE *file, unsigned workers) {
    char text[16];
    scaling_row fib, loops;
    snprintf(text, sizeof text, "%u", workers);
    setenv("MTASK_BENCH_WORKERS", text, 1); /* also the peers' */
    for (int i = 0; i < SCALING_ROUNDS; i++) {
        fib.ours[i] = forkjoin_fib();
        fib.peer[i] = bench_command("build/bench/peer_pool_tbb forkjoin_fib");
        loops.ours[i] = uneven_tasks();
        loops.peer[i] = bench_command("build/bench/peer_pool_tbb uneven_tasks");
    }
    fprintf(file, "%u", workers);
    print_scaling(file, &fib);
    print_scaling(file, &loops);
    fprintf(file, "\n");
    fflush(file);
}

static void measure_scaling(void) {
    const char *path = "build/bench/pool_scaling.tsv";
    FILE *file = fopen(path, "w");
    if (file == NULL) {
        perror(path);
        exit(1);
    }
    fprintf(file, "# workers, forkjoin_fib (ns): ours, TBB's; uneven_tasks (s): ours, TBB's\n");
    for (unsigned workers = 1; workers <= mtask_cpu_count(); workers++)
        scale_to(file, workers);
    fclose(file);
    printf("scaling: %s\n", path);
}

/* ---- the table ---- */

/* Their names, with their versions if they are there. */
static char tbb[48] = "TBB", openmp[48] = "OpenMP", go[48] = "Go", java[48] = "Java",
            python[48] = "Python", dynamic[60];

#define PEER(name) "build/bench/peer_pool_" name

/* Appends the version that `PROGRAM version` prints. */
static void name_peer(char name[48], const char *program) {
    char command[128], text[128] = "", version[12] = "";
    snprintf(command, sizeof command, "%s version 2>/dev/null", program);
    FILE *output = popen(command, "r");
    if (output == NULL)
        return;
    if (fgets(text, sizeof text, output) != NULL)
        sscanf(text + strcspn(text, "0123456789"), "%11[0-9.]", version);
    pclose(output);
    if (version[0] != '\0')
        strcat(strcat(name, " "), version);
}

static void name_peers(void) {
    name_peer(tbb, PEER("tbb"));
    name_peer(openmp, PEER("openmp"));
    name_peer(go, PEER("go"));
    name_peer(java, PEER("java"));
    name_peer(python, PEER("python"));
    snprintf(dynamic, sizeof dynamic, "%s dyn.", openmp);
}

#define FROM(name_, run_)                                                                          \
 { .name = (name_), .run = (run_) }
#define OURS(run_) FROM("mtask", run_)
#define NO_LIMIT   FROM(NULL, NULL)
#define TBB(figure)                                                                                \
 { .name = tbb, .command = PEER("tbb") " " figure }
#define OPENMP(name_, figure)                                                                      \
 { .name = (name_), .command = PEER("openmp") " " figure }
#define GO(figure)                                                                                 \
 { .name = go, .command = PEER("go") " " figure }
#define JAVA(figure)                                                                               \
 { .name = java, .command = PEER("java") " " figure }
#define PYTHON(figure)                                                                             \
 { .name = python, .command = PEER("python") " " figure }

static const bench_case cases[] = {
    {"forkjoin_fib", "ns", OURS(forkjoin_fib), TBB("forkjoin_fib"), FROM("ideal", fib_calls_shared),
     0.15, 0, note_steals},
    {"forkjoin_fib", "ns", OURS(forkjoin_fib), OPENMP(openmp, "forkjoin_fib"), NO_LIMIT, 0, 5,
     NULL},
    {"forkjoin_fib", "ns", OURS(forkjoin_fib), JAVA("forkjoin_fib"), NO_LIMIT, 0, 5, NULL},
    {"forkjoin_fib_1worker", "ns", OURS(forkjoin_fib_1worker), FROM("2 plain calls", fib_calls),
     NO_LIMIT, 0, 0, NULL},
    {"submit_empty", "ns", OURS(submit_empty), GO("submit_empty"), NO_LIMIT, 0.5, 0, NULL},
    {"submit_empty", "ns", OURS(submit_empty), TBB("submit_empty"), NO_LIMIT, 0, 5, NULL},
    {"submit_empty", "ns", OURS(submit_empty), JAVA("submit_empty"), NO_LIMIT, 0, 5, NULL},
    {"submit_empty", "ns", OURS(submit_empty), PYTHON("submit_empty"), NO_LIMIT, 0, 5, NULL},
    {"submit_future", "ns", OURS(submit_future), JAVA("submit_future"), NO_LIMIT, 0, 0, NULL},
    {"submit_future", "ns", OURS(submit_future), PYTHON("submit_future"), NO_LIMIT, 0, 5, NULL},
    {"future_roundtrip", "us", OURS(future_roundtrip), JAVA("future_roundtrip"),
     FROM("2 transfers", two_transfers), 0.8, 0, note_switches},
    {"future_roundtrip", "us", OURS(future_roundtrip), PYTHON("future_roundtrip"), NO_LIMIT, 0, 5,
     NULL},
    {"parallel_for", "s", OURS(parallel_for), OPENMP(openmp, "parallel_for"),
     FROM("ideal", parallel_for_ideal), 1.05, 0, NULL},
    {"parallel_for", "s", OURS(parallel_for), OPENMP(dynamic, "parallel_for_dynamic"),
     FROM("ideal", parallel_for_ideal), 1.05, 0, NULL},
    {"uneven_tasks", "s", OURS(uneven_tasks), TBB("uneven_tasks"), FROM("ideal", uneven_ideal),
     1.05, 0, NULL},
    {"map_vs_python", "ns", OURS(map_ints), PYTHON("map_vs_python"), NO_LIMIT, 0, 5, NULL},
    {"pgzip", "s", OURS(pgzip), FROM("pigz", pigz), NO_LIMIT, 1, 5, note_sizes},
};

int main(int argc, char **argv) {
    name_peers();
    int result = bench_main("pool", cases, BENCH_LENGTH(cases), argc, argv);
    if (argc < 2 && (mtask_cpu_count() > 4 || getenv("MTASK_BENCH_SCALING") != NULL))
        measure_scaling();
    return result;
}
