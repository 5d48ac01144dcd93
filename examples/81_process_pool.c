// mkdir -p build && cc -O2 -pthread -I. -o build/81_process_pool examples/81_process_pool.c
//
// Pool(4) and five long tasks, in processes: the fifth starts only after one of the first four has
// ended. A closed pool takes no more tasks, but does all it has; join waits for that.
//
// Output (patterns):
//   ^Parent process [0-9]+\.$
//   ^Waiting for all subprocesses done\.\.\.$
//   ^Run task [0-3] \([0-9]+\)\.\.\.$
//   ^Task [0-3] runs [0-9]\.[0-9][0-9] seconds\.$
//   ^Run task 4 \([0-9]+\)\.\.\.$
//   ^Task 4 runs [0-9]\.[0-9][0-9] seconds\.$
//   ^All subprocesses done: 5; at once at most 4; the parent did none: yes\.$
#define MTASK_IMPLEMENTATION
#include "mtask_proc.h"
#include "common.h"
#include <unistd.h>

enum { WORKERS = 4, TASKS = 5 };

/* When a task was at work: all processes have the same clock. */
typedef struct Span {
    int64_t begin, end;
    pid_t worker;
} Span;

static mtask_status long_time_task(const void *in, size_t size, mtask_buf *out) {
    int name = *(const int *)in;
    unsigned random = (unsigned)mtask_now();
    Span span = {.begin = mtask_now(), .worker = getpid()};
    (void)size;
    printf("Run task %d (%d)...\n", name, (int)getpid());
    MUST(mtask_sleep(seconds((double)rand_r(&random) / RAND_MAX * 3)));
    printf("Task %d runs %.2f seconds.\n", name, seconds_since(span.begin));
    span.end = mtask_now();
    return mtask_buf_append(out, &span, sizeof span);
}

/* The most spans that have a moment in common: some span's begin is such a moment. */
static int most_at_once(const Span *spans) {
    int most = 0;
    for (int i = 0; i < TASKS; i++) {
        int at_once = 0;
        for (int j = 0; j < TASKS; j++)
            at_once += spans[j].begin <= spans[i].begin && spans[i].begin < spans[j].end;
        most = at_once > most ? at_once : most;
    }
    return most;
}

int main(void) {
    mtask_procpool *pool;
    mtask_procpool_desc desc = {.workers = WORKERS};
    mtask_future *futures[TASKS];
    Span spans[TASKS];
    bool elsewhere = true;

    setvbuf(stdout, NULL, _IOLBF, BUFSIZ); /* workers print each line when it is there */
    printf("Parent process %d.\n", (int)getpid());
    printf("Waiting for all subprocesses done...\n");
    MUST(mtask_procpool_create(&pool, &desc));
    for (int i = 0; i < TASKS; i++)
        MUST(mtask_procpool_submit(pool, long_time_task, &i, sizeof i, &futures[i]));
    MUST(mtask_procpool_close(pool));
    if (mtask_procpool_submit(pool, long_time_task, NULL, 0, NULL) != MTASK_CLOSED)
        return 1;
    MUST(mtask_procpool_join(pool, MTASK_FOREVER));
    for (int i = 0; i < TASKS; i++) {
        MUST(mtask_future_get(futures[i], NULL, MTASK_NOWAIT)); /* it has ended */
        spans[i] = *(const Span *)mtask_future_bytes(futures[i], NULL);
        elsewhere = elsewhere && spans[i].worker != getpid();
        mtask_future_release(futures[i]);
    }
    printf("All subprocesses done: %d; at once at most %d; the parent did none: %s.\n", TASKS,
           most_at_once(spans), elsewhere ? "yes" : "no");
    MUST(mtask_procpool_destroy(pool));
    return 0;
}
