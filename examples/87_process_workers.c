// mkdir -p build && cc -O2 -pthread -I. -o build/87_process_workers examples/87_process_workers.c
//
// Master and workers as in 37_master_workers.c, with processes as workers. Compute-bound: each task
// adds a part of the series for pi; as many workers as there are CPUs are worth having. I/O-bound:
// each task waits; there many workers help, since waiting overlaps. A worker that crashes costs its
// task; the master deals that out again, and the others go on.
//
// Output:
//   compute-bound: serial 1.000 s, a worker for each CPU 0.505 s, 16 workers 0.510 s
//   I/O-bound: serial 3.200 s, a worker for each CPU 1.601 s, 16 workers 0.201 s
//   pi is 3.141593 each time: yes; many workers wait faster than one: yes
//   a worker crashed, its task was dealt out again: pi is 3.141593
#define MTASK_IMPLEMENTATION
#include "mtask_proc.h"
#include "common.h"
#include <signal.h>

enum { TASKS = 16, MANY = 16, TERMS = 400000000 };

typedef struct Task {
    long begin, end; /* terms of the series */
    bool crash;
} Task;

static Task tasks[TASKS];
static mtask_procpool *pool; /* NULL: the master does all itself */

static mtask_status compute(const void *in, size_t size, mtask_buf *out) {
    const Task *task = (const Task *)in;
    double sum = 0;
    (void)size;
    if (task->crash)
        raise(SIGKILL);
    for (long i = task->begin; i < task->end; i++)
        sum += (i % 2 == 0 ? 4.0 : -4.0) / (double)(2 * i + 1);
    return mtask_buf_append(out, &sum, sizeof sum);
}

static mtask_status wait_for_disk(const void *in, size_t size, mtask_buf *out) {
    double nothing = 0;
    (void)in, (void)size;
    MUST(mtask_sleep(seconds(0.2)));
    return mtask_buf_append(out, &nothing, sizeof nothing);
}

/* One task, that crashed before: the master's own decision. */
static double again(mtask_bytes_fn work, Task task) {
    mtask_buf out = {0};
    task.crash = false;
    printf("a worker crashed, its task was dealt out again: ");
    MUST(mtask_procpool_call(pool, work, &task, sizeof task, &out, NULL, MTASK_FOREVER));
    double sum = *(const double *)(void *)out.data;
    mtask_buf_free(&out);
    return sum;
}

/* The master: deals out all tasks and adds up what comes. */
static double deal_out(mtask_bytes_fn work) {
    double sums[TASKS], all = 0;
    mtask_status ended[TASKS];
    mtask_buf out = {0};
    mtask_procmap_desc map = {.fn = work,
                              .count = TASKS,
                              .in = tasks,
                              .in_size = sizeof *tasks,
                              .out = sums,
                              .out_size = sizeof *sums,
                              .statuses = ended,
                              .chunk = 1};
    if (pool != NULL)
        (void)mtask_procpool_map(pool, &map, NULL, MTASK_FOREVER); /* `ended` says all */
    for (int i = 0; i < TASKS; i++) {
        if (pool == NULL) {
            MUST(work(&tasks[i], sizeof tasks[i], &out));
            sums[i] = *(const double *)(void *)out.data;
            out.size = 0;
        } else if (ended[i] == MTASK_CRASHED) {
            sums[i] = again(work, tasks[i]);
        } else {
            MUST(ended[i]);
        }
        all += sums[i];
    }
    mtask_buf_free(&out);
    return all;
}

/* The same with so many workers; returns how many seconds that took. */
static double deal_out_to(unsigned workers, mtask_bytes_fn work, double *sum) {
    mtask_procpool_desc desc = {.workers = workers};
    int64_t start = mtask_now();
    pool = NULL;
    if (workers > 0)
        MUST(mtask_procpool_create(&pool, &desc));
    *sum = deal_out(work);
    MUST(mtask_procpool_destroy(pool));
    return seconds_since(start);
}

int main(void) {
    unsigned workers[] = {0, mtask_cpu_count(), MANY};
    const char *names[] = {"serial", "a worker for each CPU", "16 workers"};
    double pi[3], waited[3], sum;

    for (int i = 0; i < TASKS; i++) {
        long terms = (long)(TERMS / TASKS * example_scale()) + 1;
        tasks[i] = (Task){.begin = i * terms, .end = (i + 1) * terms};
    }
    for (int i = 0; i < 3; i++)
        printf("%s%s %.3f s", i == 0 ? "compute-bound: " : ", ", names[i],
               deal_out_to(workers[i], compute, &pi[i]));
    for (int i = 0; i < 3; i++) {
        waited[i] = deal_out_to(workers[i], wait_for_disk, &sum);
        printf("%s%s %.3f s", i == 0 ? "\nI/O-bound: " : ", ", names[i], waited[i]);
    }
    printf("\npi is %.6f each time: %s; many workers wait faster than one: %s\n", pi[0],
           pi[0] == pi[1] && pi[1] == pi[2] ? "yes" : "no", waited[2] < waited[0] ? "yes" : "no");
    tasks[TASKS / 2].crash = true;
    (void)deal_out_to(2, compute, &sum);
    printf("pi is %.6f\n", sum);
    return 0;
}
