// mkdir -p build && cc -O2 -pthread -I. -o build/22_queue_kinds examples/22_queue_kinds.c
//
// The same four tasks in three queues with room for four: first in, first out; last in, first out;
// and by priority, the lowest number first, of equal ones the first in. A put into a full queue and
// a get from an empty one answer at once with MTASK_NOWAIT, otherwise when the time is up.
//
// Output:
//   FIFO: 4 of 4, full
//     another put:       MTASK_FULL
//     after 0.5 s still: MTASK_FULL
//     out come: 3 sleep, 1 eat, 2 work, 1 drink
//     another get:       MTASK_EMPTY
//     after 0.5 s still: MTASK_EMPTY
//   LIFO: 4 of 4, full
//     another put:       MTASK_FULL
//     after 0.5 s still: MTASK_FULL
//     out come: 1 drink, 2 work, 1 eat, 3 sleep
//     another get:       MTASK_EMPTY
//     after 0.5 s still: MTASK_EMPTY
//   priority: 4 of 4, full
//     another put:       MTASK_FULL
//     after 0.5 s still: MTASK_FULL
//     out come: 1 eat, 1 drink, 2 work, 3 sleep
//     another get:       MTASK_EMPTY
//     after 0.5 s still: MTASK_EMPTY
#define MTASK_IMPLEMENTATION
#include "mtask_queue.h"
#include "common.h"

enum { ROOM = 4 };

typedef struct Task {
    int priority;
    const char *name;
} Task;

MTASK_QUEUE_TYPE(tasks, Task); /* the type `tasks`, a queue of Task, and its functions */

static int by_priority(const void *a, const void *b, void *ctx) {
    (void)ctx;
    return ((const Task *)a)->priority - ((const Task *)b)->priority;
}

static void fill(tasks *queue) {
    const Task all[ROOM] = {{3, "sleep"}, {1, "eat"}, {2, "work"}, {1, "drink"}}, more = {0};
    for (int i = 0; i < ROOM; i++)
        MUST(tasks_put(queue, all[i], MTASK_FOREVER));
    printf("%zu of %d, %s\n", tasks_size(queue), ROOM, tasks_is_full(queue) ? "full" : "not full");

    int64_t start = mtask_now();
    mtask_status at_once = tasks_put(queue, more, MTASK_NOWAIT);
    mtask_status later = tasks_put(queue, more, seconds(0.5));
    printf("  another put:       %s\n", mtask_status_name(at_once));
    printf("  after %.1f s still: %s\n", seconds_since(start), mtask_status_name(later));
}

static void empty(tasks *queue) {
    Task task;
    for (const char *before = "  out come: "; !tasks_is_empty(queue); before = ", ") {
        MUST(tasks_get(queue, &task, MTASK_FOREVER));
        printf("%s%d %s", before, task.priority, task.name);
    }
    int64_t start = mtask_now();
    mtask_status at_once = tasks_get(queue, &task, MTASK_NOWAIT);
    mtask_status later = tasks_get(queue, &task, seconds(0.5));
    printf("\n  another get:       %s\n", mtask_status_name(at_once));
    printf("  after %.1f s still: %s\n", seconds_since(start), mtask_status_name(later));
}

static void show(const char *name, mtask_queue_desc desc) {
    tasks queue;
    MUST(tasks_init_ex(&queue, &desc));
    printf("%s: ", name);
    fill(&queue);
    empty(&queue);
    MUST(tasks_deinit(&queue));
}

int main(void) {
    show("FIFO", (mtask_queue_desc){.kind = MTASK_FIFO, .capacity = ROOM});
    show("LIFO", (mtask_queue_desc){.kind = MTASK_LIFO, .capacity = ROOM});
    show("priority",
         (mtask_queue_desc){.kind = MTASK_PRIORITY, .capacity = ROOM, .compare = by_priority});
    return 0;
}
