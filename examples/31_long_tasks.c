// mkdir -p build && cc -O2 -pthread -I. -o build/31_long_tasks examples/31_long_tasks.c
//
// Pool(4) and five long tasks: the fifth starts only after one of the first four has ended. A
// closed pool takes no more tasks, but does all it has; join waits for that.
//
// Output (patterns):
//   ^Main process [0-9]+\.$
//   ^Run task [0-3] \(Pool-[0-3]\)\.\.\.$
//   ^Task [0-3] runs [0-9]\.[0-9][0-9] seconds\.$
//   ^Run task 4 \(Pool-[0-3]\)\.\.\.$
//   ^Task 4 runs [0-9]\.[0-9][0-9] seconds\.$
//   ^All tasks done: 5; never more than 4 at once\.$
#define MTASK_IMPLEMENTATION
#include "mtask_pool.h"
#include "common.h"
#include <unistd.h>

enum { WORKERS = 4, TASKS = 5 };

static mtask_word running, most;

static void enter(void) {
    mtask_word now = mtask_word_add(&running, 1) + 1, seen = mtask_word_load(&most);
    while (now > seen && !mtask_word_cas(&most, &seen, now))
        ;
}

static void *long_time_task(void *arg) {
    unsigned random = (unsigned)mtask_now();
    enter();
    printf("Run task %d (%s)...\n", *(int *)arg, mtask_thread_current().name);
    int64_t start = mtask_now();
    MUST(mtask_sleep(seconds((double)rand_r(&random) / RAND_MAX * 3)));
    printf("Task %d runs %.2f seconds.\n", *(int *)arg, seconds_since(start));
    mtask_word_add(&running, (mtask_word)-1);
    return NULL;
}

int main(void) {
    mtask_pool *pool;
    mtask_pool_desc desc = {.workers = WORKERS, .name = "Pool"};
    int names[TASKS] = {0, 1, 2, 3, 4};

    printf("Main process %d.\n", (int)getpid());
    MUST(mtask_pool_create(&pool, &desc));
    for (int i = 0; i < TASKS; i++)
        MUST(mtask_pool_post(pool, long_time_task, &names[i]));
    printf("Waiting for all tasks done...\n");
    MUST(mtask_pool_close(pool));
    if (mtask_pool_post(pool, long_time_task, &names[0]) != MTASK_CLOSED)
        return 1;
    MUST(mtask_pool_join(pool, MTASK_FOREVER));
    printf("All tasks done: %d; never more than %u at once.\n", TASKS, mtask_word_load(&most));
    MUST(mtask_pool_destroy(pool));
    return 0;
}
