// mkdir -p build && cc -O2 -pthread -I. -DMTASK_DEBUG=1 -o build/15_deadlock examples/15_deadlock.c
//
// Five threads take lock A and then B, later B and then A: two of them come to wait for each other
// for ever. Built with MTASK_DEBUG, the program does not hang silently: the dead-lock is reported,
// with the cycle, and the program ends with exit code 3. (16_recursive_lock.c is the cure.)
//
// Exit: 3
// Output (patterns):
//   ^Thread-[1-5] got lock A$
//   ^Thread-[1-5] got lock B$
//   ^dead-lock of 2 threads:$
//   ^  Thread-[1-5] waits for lock [AB] at examples/15_deadlock.c:[0-9]+$
//   ^    Thread-[1-5] holds it since examples/15_deadlock.c:[0-9]+$
//   ^  Thread-[1-5] waits for lock [AB] at examples/15_deadlock.c:[0-9]+$
//   ^    Thread-[1-5] holds it since examples/15_deadlock.c:[0-9]+$
#define MTASK_IMPLEMENTATION
#include "mtask.h"
#include "common.h"

enum { THREADS = 5, EXIT_DEADLOCK = 3 };

static mtask_mutex lock_a, lock_b;

static void got(const char *lock) {
    printf("%s got %s\n", mtask_thread_current().name, lock);
}

static void do_a(void) {
    MUST(mtask_mutex_lock(&lock_a));
    got("lock A");
    MUST(mtask_sleep(seconds(3)));
    MUST(mtask_mutex_lock(&lock_b));
    got("lock B");
    MUST(mtask_mutex_unlock(&lock_b));
    MUST(mtask_mutex_unlock(&lock_a));
}

static void do_b(void) {
    MUST(mtask_mutex_lock(&lock_b));
    got("lock B");
    MUST(mtask_sleep(seconds(2)));
    MUST(mtask_mutex_lock(&lock_a));
    got("lock A");
    MUST(mtask_mutex_unlock(&lock_a));
    MUST(mtask_mutex_unlock(&lock_b));
}

static void *run(void *arg) {
    (void)arg;
    do_a();
    do_b();
    return NULL;
}

static void report(const mtask_deadlock *deadlock, void *ctx) {
    (void)ctx;
    printf("dead-lock of %zu threads:\n", deadlock->count);
    for (size_t i = 0; i < deadlock->count; i++) {
        const mtask_deadlock_edge *edge = &deadlock->edges[i];
        const mtask_deadlock_edge *next = &deadlock->edges[(i + 1) % deadlock->count];
        printf("  %s waits for %s at %s:%d\n", edge->thread, edge->waits_for, edge->file,
               edge->line);
        printf("    %s holds it since %s:%d\n", next->thread, edge->held_file, edge->held_line);
    }
    fflush(stdout);
    _Exit(EXIT_DEADLOCK); /* the others will never end */
}

int main(void) {
    mtask_thread threads[THREADS] = {0};
    MUST(mtask_debug_on_deadlock(report, NULL));
    MUST(mtask_debug_name(&lock_a, "lock A"));
    MUST(mtask_debug_name(&lock_b, "lock B"));
    for (int i = 0; i < THREADS; i++)
        MUST(mtask_thread_start(&threads[i], run, NULL));
    for (int i = 0; i < THREADS; i++)
        MUST(mtask_thread_join(&threads[i], NULL, MTASK_FOREVER));
    return 0;
}
