// mkdir -p build && cc -O2 -pthread -I. -o build/55_at_most examples/55_at_most.c
//
// Forty jobs, but at most five at a time: each is a task of its own, and a semaphore of five lets
// them in. A crawler treats the sites of others like that. On a terminal a bar shows how far it is.
//
// Output:
//   40 jobs in 4.000 seconds, never more than 5 at a time
#define MTASK_IMPLEMENTATION
#include "mtask_coro.h"
#include "common.h"
#include <unistd.h>

enum { JOBS = 40, AT_ONCE = 5 };

/* What follows the tasks share; since they take turns, it needs no lock. */
static mtask_sem slots; /* this one is for waiting */
static int running, most, done;

static void *job(void *arg) {
    MUST(mtask_sem_acquire(&slots, MTASK_FOREVER));
    most = ++running > most ? running : most;
    mtask_status status = mtask_sleep(seconds(0.5)); /* stands for the work */
    running--;
    done++;
    MUST(mtask_sem_release(&slots, 1));
    return status == MTASK_OK ? arg : mtask_fail(status, NULL);
}

/* Draws the bar, until it is cancelled. */
static void *show(void *arg) {
    static const char bar[] = "########################################"; /* one for each job */
    do
        fprintf(stderr, "\r[%-*.*s] %d of %d, %d at once", JOBS, done, bar, done, JOBS, running);
    while (mtask_sleep(MTASK_MS(50)) == MTASK_OK);
    fprintf(stderr, "\r\033[K");
    return arg;
}

static void *program(void *arg) {
    mtask_taskgroup jobs;
    MUST(mtask_sem_init(&slots, AT_ONCE, AT_ONCE, MTASK_PRIVATE));
    if (isatty(STDERR_FILENO))
        MUST(mtask_go(show, NULL, NULL)); /* outside of the group: it ends when program does */
    MUST(mtask_taskgroup_begin(&jobs));
    for (int i = 0; i < JOBS; i++)
        MUST(mtask_taskgroup_go(&jobs, job, NULL, NULL));
    MUST(mtask_taskgroup_end(&jobs, NULL));
    return arg;
}

int main(void) {
    int64_t start = mtask_now();
    MUST(mtask_loop_run(program, NULL, NULL));
    printf("%d jobs in %.3f seconds, never more than %d at a time\n", done, seconds_since(start),
           most);
    return 0;
}
