// mkdir -p build && cc -O2 -pthread -I. -o build/02_threads examples/02_threads.c
//
// Threads in two ways: from a function and its argument, and as a struct that holds a thread, a run
// function and data (what a subclass is in Python). Then what there is to ask of threads: their
// names, whether they are alive, which there are and how many.
//
// Output (any order):
//   running on number:1
//   running on number:2
//   running on number:3
//   started: Thread-1
//   started: Thread-2
//   started: MyThread-3
//   Thread-1 is alive: True
//   4 threads are active:
//     MainThread
//     Thread-1
//     Thread-2
//     MyThread-3
//   Thread-1 is alive: False
//   1 thread is active
//   ending.....
#define MTASK_IMPLEMENTATION
#include "mtask.h"
#include "common.h"

static void *say_hi(void *arg) {
    printf("running on number:%d\n", *(int *)arg);
    MUST(mtask_sleep(seconds(3)));
    return NULL;
}

typedef struct MyThread {
    mtask_thread thread;
    void (*run)(struct MyThread *self);
    int number;
} MyThread;

static void run(MyThread *self) {
    say_hi(&self->number);
}

static void *call_run(void *arg) {
    MyThread *self = (MyThread *)arg;
    self->run(self);
    return NULL;
}

static void my_thread_start(MyThread *self) {
    mtask_thread_desc desc = {.fn = call_run, .arg = self, .name = "MyThread-3"};
    MUST(mtask_thread_start_ex(&self->thread, &desc));
}

static void list_threads(void) {
    mtask_thread_info infos[8];
    size_t count;
    MUST(mtask_thread_enumerate(infos, 8, &count));
    printf("%zu threads are active:\n", mtask_thread_active_count());
    for (size_t i = 0; i < count; i++)
        printf("  %s\n", infos[i].name);
}

int main(void) {
    int numbers[] = {1, 2};
    mtask_thread first = {0}, second = {0};
    MyThread third = {.run = run, .number = 3};

    MUST(mtask_thread_start(&first, say_hi, &numbers[0]));
    MUST(mtask_thread_start(&second, say_hi, &numbers[1]));
    my_thread_start(&third);
    printf("started: %s\n", mtask_thread_name(&first));
    printf("started: %s\n", mtask_thread_name(&second));
    printf("started: %s\n", mtask_thread_name(&third.thread));
    printf("Thread-1 is alive: %s\n", mtask_thread_is_alive(&first) ? "True" : "False");
    list_threads();

    MUST(mtask_thread_join(&first, NULL, MTASK_FOREVER));
    MUST(mtask_thread_join(&second, NULL, MTASK_FOREVER));
    MUST(mtask_thread_join(&third.thread, NULL, MTASK_FOREVER));
    printf("Thread-1 is alive: %s\n", mtask_thread_is_alive(&first) ? "True" : "False");
    printf("%zu thread is active\n", mtask_thread_active_count());
    printf("ending.....\n");
    return 0;
}
