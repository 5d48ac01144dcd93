/* pool_work.h - what bench_pool.c and its peers in C and C++ compute: the same code for all of them,
   compiled with the same flags. */
#ifndef POOL_WORK_H
#define POOL_WORK_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

/* Not merged into whoever calls it: that might be done for one side and not for the other. */
#define WORK_CALLED __attribute__((noinline, unused)) static

static inline unsigned work_threads(void) {
    const char *text = getenv("MTASK_BENCH_WORKERS");
    int threads = text != NULL ? atoi(text) : 2;
    return threads > 0 ? (unsigned)threads : 2;
}

static inline double work_now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

static inline void work_expect(uint64_t got, uint64_t expected) {
    if (got == expected)
        return;
    fprintf(stderr, "benchmark: a wrong result\n");
    exit(1);
}

/* ---- forkjoin_fib: a task for each call but the leaves', fib(FIB_N + 1) - 1 of them ---- */

#define FIB_N      30
#define FIB_RESULT 832040
#define FIB_TASKS  1346268

/* ---- parallel_for: the Mandelbrot set, row by row ---- */

#define MANDEL_ROWS    600
#define MANDEL_COLUMNS 800
#define MANDEL_STEPS   1000
#define MANDEL_REPEATS 3

static inline unsigned work_mandel_point(double real, double imaginary) {
    double x = 0, y = 0;
    unsigned step = 0;
    while (step < MANDEL_STEPS && x * x + y * y <= 4) {
        double next = x * x - y * y + real;
        y = 2 * x * y + imaginary;
        x = next;
        step++;
    }
    return step;
}

/* How many steps all points of a row take. */
WORK_CALLED uint64_t work_mandel_row(size_t row) {
    uint64_t steps = 0;
    double imaginary = 2.4 * ((double)row + 0.5) / MANDEL_ROWS - 1.2;
    for (int column = 0; column < MANDEL_COLUMNS; column++)
        steps += work_mandel_point(3.0 * column / MANDEL_COLUMNS - 2.2, imaginary);
    return steps;
}

/* ---- uneven_tasks: the one of rank r costs 1 / r^0.8 of the largest (Zipf) ---- */

#define UNEVEN_TASKS   10000
#define UNEVEN_LARGEST 2500000 /* steps; all together 27 times as much */
#define UNEVEN_REPEATS 5

/* What the tasks cost, in an order that is always the same and looks like chance. */
static inline void work_make_costs(unsigned costs[UNEVEN_TASKS]) {
    uint64_t seed = 1;
    for (unsigned i = 0; i < UNEVEN_TASKS; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        unsigned place = (unsigned)((seed >> 33) % (i + 1));
        costs[i] = costs[place];
        costs[place] = (unsigned)(UNEVEN_LARGEST / pow(i + 1, 0.8));
    }
}

WORK_CALLED uint64_t work_uneven_task(unsigned cost) {
    uint64_t value = cost;
    for (unsigned i = 0; i < cost; i++)
        value = value * 6364136223846793005u + 1442695040888963407u;
    return value;
}

/* ---- sums of what parallel loops have written ---- */

static inline uint64_t work_sum(const uint64_t *values, size_t count) {
    uint64_t sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += values[i];
    return sum;
}

#endif
