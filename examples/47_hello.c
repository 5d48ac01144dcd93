// mkdir -p build && cc -O2 -pthread -I. -o build/47_hello examples/47_hello.c
//
// asyncio's first program: `build/47_hello [COUNT]`. Each task says hello, sleeps for a second, and
// says hello again. A sleeping task is parked, and the loop goes on with the others: so many of them
// take a second, too, on a single thread.
//
// Output with 1:
//   Hello world! (1)
//   Hello again! (1)
//   1 task, 1.000 seconds
// Output (any order):
//   Hello world! (1)
//   Hello world! (2)
//   Hello world! (3)
//   Hello again! (1)
//   Hello again! (2)
//   Hello again! (3)
//   3 tasks, 1.000 seconds
#define MTASK_IMPLEMENTATION
#include "mtask_coro.h"
#include "common.h"

static void *hello(void *arg) {
    int number = (int)(intptr_t)arg;
    printf("Hello world! (%d)\n", number);
    MUST(mtask_sleep(seconds(1))); /* await asyncio.sleep(1) */
    printf("Hello again! (%d)\n", number);
    return NULL;
}

/* The first task: when it has returned, the loop ends. So it waits for the others. */
static void *hello_all(void *arg) {
    int count = *(int *)arg;
    mtask_taskgroup all;
    MUST(mtask_taskgroup_begin(&all));
    for (int i = 1; i <= count; i++)
        MUST(mtask_taskgroup_go(&all, hello, (void *)(intptr_t)i, NULL));
    MUST(mtask_taskgroup_end(&all, NULL));
    return NULL;
}

int main(int argc, char **argv) {
    int count = argc > 1 ? atoi(argv[1]) : 3;
    int64_t start = mtask_now();
    MUST(mtask_loop_run(hello_all, &count, NULL));
    printf("%d task%s, %.3f seconds\n", count, count == 1 ? "" : "s", seconds_since(start));
    return 0;
}
