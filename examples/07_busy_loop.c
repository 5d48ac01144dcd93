// mkdir -p build && cc -O2 -pthread -I. -o build/07_busy_loop examples/07_busy_loop.c
//
// One busy loop for each core, for five seconds. The process gets as many seconds of CPU time in a
// second as there are cores (on an idle machine); Python's threads, under its global lock, get one.
//
// Output (patterns):
//   ^[0-9]+ busy threads on as many cores$
//   ^CPU time [0-9.]+ s in [0-9.]+ s: [0-9.]+ cores were busy$
#define MTASK_IMPLEMENTATION
#include "mtask.h"
#include "common.h"
#include <time.h>

static mtask_word stop;

static void *loop(void *arg) {
    unsigned x = 0;
    (void)arg;
    while (mtask_word_load(&stop) == 0)
        x = x ^ 1;
    return (void *)(uintptr_t)x;
}

int main(void) {
    unsigned cores = mtask_cpu_count();
    mtask_thread *threads = (mtask_thread *)calloc(cores, sizeof *threads);
    if (threads == NULL)
        return EXIT_FAILURE;

    printf("%u busy threads on as many cores\n", cores);
    int64_t start = mtask_now();
    clock_t start_cpu = clock();
    for (unsigned i = 0; i < cores; i++)
        MUST(mtask_thread_start(&threads[i], loop, NULL));
    MUST(mtask_sleep(seconds(5)));
    mtask_word_store(&stop, 1);
    for (unsigned i = 0; i < cores; i++)
        MUST(mtask_thread_join(&threads[i], NULL, MTASK_FOREVER));

    double cpu = (double)(clock() - start_cpu) / CLOCKS_PER_SEC;
    double wall = (double)(mtask_now() - start) / 1e9;
    printf("CPU time %.2f s in %.2f s: %.2f cores were busy\n", cpu, wall, cpu / wall);
    free(threads);
    return 0;
}
