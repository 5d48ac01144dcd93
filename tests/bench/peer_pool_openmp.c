// flags: -fopenmp
/* peer_pool_openmp.c FIGURE - OpenMP: prints the figure; `version` prints what it is. The figures
   are those of bench_pool.c, which has the same loops; `parallel_for_dynamic` is `parallel_for` with
   schedule(dynamic), where threads take row by row. */
#include "pool_work.h"

#include <omp.h>
#include <stdbool.h>
#include <string.h>

#define FIB_REPEATS 3

WORK_CALLED long fib(long n) {
    long a, b;
    if (n < 2)
        return n;
#pragma omp task shared(a)
    a = fib(n - 1);
    b = fib(n - 2);
#pragma omp taskwait
    return a + b;
}

static double fibs(long n, long expected, int repeats) {
    long sum = 0;
    double start = work_now_ns();
    for (int i = 0; i < repeats; i++)
#pragma omp parallel
#pragma omp single
        sum += fib(n);
    double lasted = work_now_ns() - start;
    work_expect((uint64_t)sum, (uint64_t)(expected * repeats));
    return lasted / repeats / FIB_TASKS;
}

static double forkjoin_fib(void) {
    fibs(25, 75025, 1);
    return fibs(FIB_N, FIB_RESULT, FIB_REPEATS);
}

static uint64_t values[MANDEL_ROWS];

static void mandel(bool dynamic) {
    if (dynamic) {
#pragma omp parallel for schedule(dynamic)
        for (size_t row = 0; row < MANDEL_ROWS; row++)
            values[row] = work_mandel_row(row);
    } else {
#pragma omp parallel for schedule(static)
        for (size_t row = 0; row < MANDEL_ROWS; row++)
            values[row] = work_mandel_row(row);
    }
}

static double parallel_for(bool dynamic) {
    uint64_t expected = 0;
    for (size_t row = 0; row < MANDEL_ROWS; row++)
        expected += work_mandel_row(row);
    mandel(dynamic);
    memset(values, 0, sizeof values);
    double start = work_now_ns();
    for (int i = 0; i < MANDEL_REPEATS; i++)
        mandel(dynamic);
    double seconds = (work_now_ns() - start) / MANDEL_REPEATS / 1e9;
    work_expect(work_sum(values, MANDEL_ROWS), expected);
    return seconds;
}

int main(int argc, char **argv) {
    const char *figure = argc > 1 ? argv[1] : "";
    omp_set_num_threads((int)work_threads());
    if (strcmp(figure, "version") == 0) {
        printf("OpenMP %d.%d\n", __GNUC__,
               __GNUC_MINOR__); /* the library comes with the compiler */
    } else if (strcmp(figure, "forkjoin_fib") == 0) {
        printf("%.3f\n", forkjoin_fib());
    } else if (strcmp(figure, "parallel_for") == 0) {
        printf("%.6f\n", parallel_for(false));
    } else if (strcmp(figure, "parallel_for_dynamic") == 0) {
        printf("%.6f\n", parallel_for(true));
    } else {
        fprintf(stderr, "peer_pool_openmp: no figure '%s'\n", figure);
        return 2;
    }
    return 0;
}
