// flags: -ltbb
// peer_pool_tbb.cpp FIGURE - oneTBB: prints the figure; `version` prints what it is. The figures are
// those of bench_pool.c, which has the same loops.
#include "pool_work.h"

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <tbb/global_control.h>
#include <tbb/parallel_for.h>
#include <tbb/task_group.h>
#include <tbb/version.h>

static const int FIB_REPEATS = 3;
static const long EMPTY_TASKS = 1000000;

WORK_CALLED long fib(long n) {
    if (n < 2)
        return n;
    long a, b;
    tbb::task_group group;
    group.run([&] { a = fib(n - 1); });
    b = fib(n - 2);
    group.wait();
    return a + b;
}

static double forkjoin_fib() {
    work_expect((uint64_t)fib(25), 75025);
    double start = work_now_ns();
    for (int i = 0; i < FIB_REPEATS; i++)
        work_expect((uint64_t)fib(FIB_N), FIB_RESULT);
    return (work_now_ns() - start) / FIB_REPEATS / FIB_TASKS;
}

static double submit(long tasks) {
    double start = work_now_ns();
    tbb::task_group group;
    for (long i = 0; i < tasks; i++)
        group.run([] {});
    group.wait();
    return (work_now_ns() - start) / (double)tasks;
}

static double submit_empty() {
    submit(EMPTY_TASKS / 4);
    return submit(EMPTY_TASKS);
}

static uint64_t values[UNEVEN_TASKS];

static void mandel() {
    tbb::parallel_for(
        tbb::blocked_range<size_t>(0, MANDEL_ROWS),
        [](const tbb::blocked_range<size_t> &range) {
            for (size_t row = range.begin(); row != range.end(); ++row)
                values[row] = work_mandel_row(row);
        },
        tbb::auto_partitioner());
}

static double parallel_for() {
    uint64_t expected = 0;
    for (size_t row = 0; row < MANDEL_ROWS; row++)
        expected += work_mandel_row(row);
    mandel();
    std::memset(values, 0, sizeof values);
    double start = work_now_ns();
    for (int i = 0; i < MANDEL_REPEATS; i++)
        mandel();
    double seconds = (work_now_ns() - start) / MANDEL_REPEATS / 1e9;
    work_expect(work_sum(values, MANDEL_ROWS), expected);
    return seconds;
}

static unsigned costs[UNEVEN_TASKS];

static void uneven() {
    tbb::parallel_for(
        tbb::blocked_range<size_t>(0, UNEVEN_TASKS),
        [](const tbb::blocked_range<size_t> &range) {
            for (size_t i = range.begin(); i != range.end(); ++i)
                values[i] = work_uneven_task(costs[i]);
        },
        tbb::auto_partitioner());
}

static double uneven_tasks() {
    uint64_t expected = 0;
    work_make_costs(costs);
    for (size_t i = 0; i < UNEVEN_TASKS; i++)
        expected += work_uneven_task(costs[i]);
    uneven();
    std::memset(values, 0, sizeof values);
    double start = work_now_ns();
    for (int i = 0; i < UNEVEN_REPEATS; i++)
        uneven();
    double seconds = (work_now_ns() - start) / UNEVEN_REPEATS / 1e9;
    work_expect(work_sum(values, UNEVEN_TASKS), expected);
    return seconds;
}

static const struct {
    const char *name;
    double (*run)();
} figures[] = {
    {"forkjoin_fib", forkjoin_fib},
    {"submit_empty", submit_empty},
    {"parallel_for", parallel_for},
    {"uneven_tasks", uneven_tasks},
};

int main(int argc, char **argv) {
    const char *wanted = argc > 1 ? argv[1] : "";
    if (std::strcmp(wanted, "version") == 0) {
        std::printf("oneTBB %s\n", TBB_runtime_version());
        return 0;
    }
    // the calling thread is one of them
    tbb::global_control workers(tbb::global_control::max_allowed_parallelism, work_threads());
    for (const auto &figure : figures) {
        if (std::strcmp(figure.name, wanted) != 0)
            continue;
        std::printf("%.6f\n", figure.run());
        return 0;
    }
    std::fprintf(stderr, "peer_pool_tbb: no figure '%s'\n", wanted);
    return 2;
}
