// mkdir -p build && cc -O2 -pthread -I. -o build/25_queue_join examples/25_queue_join.c
//
// Three workers drain a queue of ten tasks. join returns when task_done has been called ten times:
// not when the queue is empty, for then the last tasks are still being worked on.
//
// Output (patterns):
//   ^10 tasks are in the queue$
//   ^Worker-[1-3] is working on task_[123]$
//   ^Worker-[1-3] is working on task_([3-9]|10)$
//   ^all tasks are done: 10 of 10, 0 unfinished$
#define MTASK_IMPLEMENTATION
#include "mtask_queue.h"
#include "common.h"

enum { TASKS = 10, WORKERS = 3 };

MTASK_QUEUE_TYPE(tasks, int);

static tasks queue;
static mtask_word done;

static void *work(void *arg) {
    int task;
    unsigned random = (unsigned)mtask_task_id();
    (void)arg;
    while (tasks_get(&queue, &task, MTASK_FOREVER) == MTASK_OK) {
        printf("%s is working on task_%d\n", mtask_thread_current().name, task);
        MUST(mtask_sleep(seconds((double)rand_r(&random) / RAND_MAX)));
        mtask_word_add(&done, 1);
        MUST(tasks_task_done(&queue));
    }
    return NULL; /* it is closed, and nothing is left */
}

int main(void) {
    const char *names[WORKERS] = {"Worker-1", "Worker-2", "Worker-3"};

    MUST(tasks_init(&queue, TASKS));
    for (int task = 1; task <= TASKS; task++)
        MUST(tasks_put(&queue, task, MTASK_FOREVER));
    MUST(tasks_close(&queue)); /* no more will come */
    printf("%zu tasks are in the queue\n", tasks_size(&queue));

    for (int i = 0; i < WORKERS; i++) {
        mtask_thread_desc desc = {.fn = work, .name = names[i]};
        MUST(mtask_thread_start_ex(NULL, &desc));
    }
    MUST(tasks_join(&queue, MTASK_FOREVER));
    printf("all tasks are done: %u of %d, %zu unfinished\n", mtask_word_load(&done), TASKS,
           tasks_unfinished(&queue));

    MUST(mtask_thread_join_all(MTASK_FOREVER));
    MUST(tasks_deinit(&queue));
    return 0;
}
