// mkdir -p build && cc -O2 -pthread -I. -o build/75_process_queue examples/75_process_queue.c
//
// A queue between processes: an ordinary mtask_queue, made with MTASK_SHARED in memory that they
// share. Here it is a piece of an arena; forked children find it where their parent has it.
//
// Output:
//   [42, null, "hello"]
//   1, 2, 5
#define MTASK_IMPLEMENTATION
#include "mtask_proc.h"
#include "common.h"

enum { CAPACITY = 10, CHILDREN = 3 };

typedef struct Item {
    char text[28];
    int number;
} Item;

MTASK_QUEUE_TYPE(work, Item);

static work queue;

static void *f(void *arg) {
    (void)arg;
    MUST(work_put(&queue, (Item){.text = "[42, null, \"hello\"]"}, MTASK_FOREVER));
    return NULL;
}

static void *g(void *arg) {
    int n = (int)(intptr_t)arg;
    MUST(work_put(&queue, (Item){.number = n * n + 1}, MTASK_FOREVER));
    return NULL;
}

static int by_number(const void *a, const void *b) {
    return ((const Item *)a)->number - ((const Item *)b)->number;
}

int main(void) {
    mtask_arena arena;
    mtask_proc *child, *children[CHILDREN];
    Item item, got[CHILDREN];
    mtask_queue_desc desc = {.capacity = CAPACITY,
                             .storage_size = MTASK_QUEUE_STORAGE_SIZE(CAPACITY, sizeof(Item)),
                             .flags = MTASK_SHARED};
    MUST(mtask_arena_create(&arena, NULL, 2 * desc.storage_size));
    MUST(mtask_arena_alloc(&arena, desc.storage_size, &desc.storage));
    MUST(work_init_ex(&queue, &desc));

    MUST(mtask_proc_start(&child, f, NULL));
    MUST(work_get(&queue, &item, MTASK_FOREVER));
    printf("%s\n", item.text);
    MUST(mtask_proc_join(child, NULL, MTASK_FOREVER));
    MUST(mtask_proc_close(child));

    for (intptr_t i = 0; i < CHILDREN; i++)
        MUST(mtask_proc_start(&children[i], g, (void *)i));
    for (int i = 0; i < CHILDREN; i++) /* in whatever order they come */
        MUST(work_get(&queue, &got[i], MTASK_FOREVER));
    for (int i = 0; i < CHILDREN; i++)
        mtask_proc_release(children[i]);
    qsort(got, CHILDREN, sizeof *got, by_number);
    printf("%d, %d, %d\n", got[0].number, got[1].number, got[2].number);
    MUST(mtask_proc_join_all(MTASK_FOREVER));
    MUST(work_deinit(&queue));
    MUST(mtask_arena_close(&arena));
    return 0;
}
