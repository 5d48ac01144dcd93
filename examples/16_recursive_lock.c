// mkdir -p build && cc -O2 -pthread -I. -o build/16_recursive_lock examples/16_recursive_lock.c
//
// The cure for 15_deadlock.c: one recursive lock in the place of the two. Its owner takes it again
// without waiting, and nobody else gets in between; so all five threads come to their end.
//
// Output (in order by first word):
//   Thread-1 got lock A
//   Thread-1 got lock B
//   Thread-1 got lock B
//   Thread-1 got lock A
//   Thread-2 got lock A
//   Thread-2 got lock B
//   Thread-2 got lock B
//   Thread-2 got lock A
//   Thread-3 got lock A
//   Thread-3 got lock B
//   Thread-3 got lock B
//   Thread-3 got lock A
//   Thread-4 got lock A
//   Thread-4 got lock B
//   Thread-4 got lock B
//   Thread-4 got lock A
//   Thread-5 got lock A
//   Thread-5 got lock B
//   Thread-5 got lock B
//   Thread-5 got lock A
//   all threads ended
#define MTASK_IMPLEMENTATION
#include "mtask.h"
#include "common.h"

enum { THREADS = 5 };

static mtask_rmutex lock;

static void take_two(const char *first, const char *second, double pause) {
    MUST(mtask_rmutex_lock(&lock));
    printf("%s got %s\n", mtask_thread_current().name, first);
    MUST(mtask_sleep(seconds(pause)));
    MUST(mtask_rmutex_lock(&lock));
    printf("%s got %s\n", mtask_thread_current().name, second);
    MUST(mtask_rmutex_unlock(&lock));
    MUST(mtask_rmutex_unlock(&lock));
}

static void *run(void *arg) {
    (void)arg;
    take_two("lock A", "lock B", 3);
    take_two("lock B", "lock A", 2);
    return NULL;
}

int main(void) {
    mtask_thread threads[THREADS] = {0};
    for (int i = 0; i < THREADS; i++)
        MUST(mtask_thread_start(&threads[i], run, NULL));
    for (int i = 0; i < THREADS; i++)
        MUST(mtask_thread_join(&threads[i], NULL, MTASK_FOREVER));
    printf("all threads ended\n");
    return 0;
}
