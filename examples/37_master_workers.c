// mkdir -p build && cc -O2 -pthread -I. -o build/37_master_workers examples/37_master_workers.c
//
// A master deals out tasks, workers do them. Compute-bound: each task adds a part of the series for
// pi; as many workers as there are CPUs are worth having, more gain nothing. I/O-bound: each task
// waits (as for a disk or the network) and hardly computes; there many workers help, since waiting
// overlaps.
//
// The backlog is bounded: a master that is faster than its workers waits until they catch up.
//
// Output:
//   compute-bound: serial 1.000 s, a worker for each CPU 0.505 s, 16 workers 0.510 s
//   I/O-bound: serial 3.200 s, a worker for each CPU 1.601 s, 16 workers 0.201 s
//   pi is 3.141593 each time: yes; many workers wait faster than one: yes
#define MTASK_IMPLEMENTATION
#include "mtask_pool.h"
#include "common.h"

enum { TASKS = 16, MANY = 16, TERMS = 400000000 };

typedef struct Task {
    long begin, end; /* terms of the series */
    double sum;
} Task;

static Task tasks[TASKS];

static void *compute(void *arg) {
    Task *task = (Task *)arg;
    task->sum = 0;
    for (long i = task->begin; i < task->end; i++)
        task->sum += (i % 2 == 0 ? 4.0 : -4.0) / (double)(2 * i + 1);
    return NULL;
}

static void *wait_for_disk(void *arg) {
    (void)arg;
    MUST(mtask_sleep(seconds(0.2)));
    return NULL;
}

/* The master: deals out all tasks and waits. Without workers it does them itself. Returns how many
   seconds that took. */
static double deal_out(mtask_fn work, unsigned workers) {
    mtask_pool *pool;
    mtask_pool_desc desc = {.workers = workers, .backlog = 2 * workers};
    int64_t start = mtask_now();
    if (workers == 0) {
        for (int i = 0; i < TASKS; i++)
            work(&tasks[i]);
        return seconds_since(start);
    }
    MUST(mtask_pool_create(&pool, &desc));
    for (int i = 0; i < TASKS; i++)
        MUST(mtask_pool_post(pool, work, &tasks[i]));
    MUST(mtask_pool_destroy(pool)); /* closes it, and waits until all is done */
    return seconds_since(start);
}

static double sum(void) {
    double pi = 0;
    for (int i = 0; i < TASKS; i++)
        pi += tasks[i].sum;
    return pi;
}

int main(void) {
    unsigned workers[] = {0, mtask_cpu_count(), MANY};
    const char *names[] = {"serial", "a worker for each CPU", "16 workers"};
    double pi[3], waited[3];

    for (int i = 0; i < TASKS; i++) {
        long terms = (long)(TERMS / TASKS * example_scale()) + 1;
        tasks[i] = (Task){.begin = i * terms, .end = (i + 1) * terms};
    }
    for (int i = 0; i < 3; i++) {
        printf("%s%s %.3f s", i == 0 ? "compute-bound: " : ", ", names[i],
               deal_out(compute, workers[i]));
        pi[i] = sum();
    }
    for (int i = 0; i < 3; i++) {
        waited[i] = deal_out(wait_for_disk, workers[i]);
        printf("%s%s %.3f s", i == 0 ? "\nI/O-bound: " : ", ", names[i], waited[i]);
    }
    printf("\npi is %.6f each time: %s; many workers wait faster than one: %s\n", pi[0],
           pi[0] == pi[1] && pi[1] == pi[2] ? "yes" : "no", waited[2] < waited[0] ? "yes" : "no");
    return 0;
}
