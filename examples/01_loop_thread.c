// mkdir -p build && cc -O2 -pthread -I. -o build/01_loop_thread examples/01_loop_thread.c
//
// A thread with a name counts to five, a number each second; the main thread waits for it.
//
// Output:
//   thread MainThread is running...
//   thread LoopThread is running...
//   thread LoopThread >>> 1
//   thread LoopThread >>> 2
//   thread LoopThread >>> 3
//   thread LoopThread >>> 4
//   thread LoopThread >>> 5
//   thread LoopThread ended.
//   thread MainThread ended.
#define MTASK_IMPLEMENTATION
#include "mtask.h"
#include "common.h"

static void *loop(void *arg) {
    (void)arg;
    printf("thread %s is running...\n", mtask_thread_current().name);
    for (int n = 1; n <= 5; n++) {
        printf("thread %s >>> %d\n", mtask_thread_current().name, n);
        MUST(mtask_sleep(seconds(1)));
    }
    printf("thread %s ended.\n", mtask_thread_current().name);
    return NULL;
}

int main(void) {
    mtask_thread thread = {0};
    mtask_thread_desc desc = {.fn = loop, .name = "LoopThread"};
    printf("thread %s is running...\n", mtask_thread_current().name);
    MUST(mtask_thread_start_ex(&thread, &desc));
    MUST(mtask_thread_join(&thread, NULL, MTASK_FOREVER));
    printf("thread %s ended.\n", mtask_thread_current().name);
    return 0;
}
