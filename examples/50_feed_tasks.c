// mkdir -p build && cc -O2 -pthread -I. -o build/50_feed_tasks examples/50_feed_tasks.c
//
// Threads feed coroutines: three threads put numbers into an ordinary queue, four tasks of a loop get
// them. It is the same queue, and the same put and get: in a thread they block the thread, in a task
// they park the task. Each producer's numbers come in order, and not one is lost.
//
// Output (patterns):
//   ^thread 1: 1000 numbers, sum 500500, in order: yes$
//   ^thread 2: 1000 numbers, sum 500500, in order: yes$
//   ^thread 3: 1000 numbers, sum 500500, in order: yes$
//   ^3000 numbers, got by 4 tasks of one thread$
#define MTASK_IMPLEMENTATION
#include "mtask_queue.h"
#include "mtask_coro.h"
#include "common.h"

enum { THREADS = 3, TASKS = 4, NUMBERS = 1000 };

typedef struct Item {
    int producer, number;
} Item;

MTASK_QUEUE_TYPE(numbers, Item);

typedef struct Total {
    int count, sum;
    bool disorder;
} Total;

static numbers queue;
static Total totals[THREADS]; /* of the tasks: they take turns, so no lock is needed */

static void *put_numbers(void *arg) {
    Item item = {.producer = (int)(intptr_t)arg};
    for (item.number = 1; item.number <= NUMBERS; item.number++)
        MUST(numbers_put(&queue, item,
                         MTASK_FOREVER)); /* while the queue is full, the thread waits */
    return NULL;
}

static void *get_numbers(void *arg) {
    Item item;
    while (numbers_get(&queue, &item, MTASK_FOREVER) ==
           MTASK_OK) { /* while it is empty, this task */
        Total *total = &totals[item.producer];
        total->sum += item.number;
        total->disorder |= item.number != ++total->count;
        if (item.number % 10 == 0)
            MUST(mtask_yield()); /* a get that finds something does not wait: let others run, too */
    }
    return arg;
}

static void *program(void *arg) {
    mtask_thread threads[THREADS] = {0};
    mtask_taskgroup tasks;
    MUST(mtask_taskgroup_begin(&tasks));
    for (int i = 0; i < TASKS; i++)
        MUST(mtask_taskgroup_go(&tasks, get_numbers, NULL, NULL));
    for (int i = 0; i < THREADS; i++)
        MUST(mtask_thread_start(&threads[i], put_numbers, (void *)(intptr_t)i));
    for (int i = 0; i < THREADS; i++)
        MUST(mtask_thread_join(&threads[i], NULL, MTASK_FOREVER)); /* parks this task */
    MUST(numbers_close(&queue));
    MUST(mtask_taskgroup_end(&tasks, NULL));
    return arg;
}

int main(void) {
    int sum = 0;
    MUST(numbers_init(&queue, 16));
    MUST(mtask_loop_run(program, NULL, NULL));
    for (int i = 0; i < THREADS; i++) {
        printf("thread %d: %d numbers, sum %d, in order: %s\n", i + 1, totals[i].count,
               totals[i].sum, totals[i].disorder ? "no" : "yes");
        sum += totals[i].count;
    }
    printf("%d numbers, got by %d tasks of one thread\n", sum, TASKS);
    MUST(numbers_deinit(&queue));
    return 0;
}
