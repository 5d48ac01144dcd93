/* testing_queue.h - queues of longs, for the tests of mtask_queue.h */
#ifndef MTASK_TESTING_QUEUE_H
#define MTASK_TESTING_QUEUE_H

#include "testing_threads.h"

#include "../mtask_queue.h"

#define KINDS 3

static TESTING_UNUSED int by_long(const void *a, const void *b, void *ctx) {
    const long *x = (const long *)a;
    const long *y = (const long *)b;
    (void)ctx;
    return (*x > *y) - (*x < *y);
}

/* Makes a queue of longs. */
static TESTING_UNUSED void open_longs(mtask_queue *queue, mtask_queue_kind kind, size_t capacity) {
    mtask_queue_desc desc = {0};
    desc.kind = kind;
    desc.capacity = capacity;
    desc.item_size = sizeof(long);
    desc.compare = kind == MTASK_PRIORITY ? by_long : NULL;
    ck_assert_status(mtask_queue_init(queue, &desc), MTASK_OK);
}

static TESTING_UNUSED void put_long(mtask_queue *queue, long item) {
    ck_assert_status(mtask_queue_put(queue, &item, MTASK_NOWAIT), MTASK_OK);
}

static TESTING_UNUSED long get_long(mtask_queue *queue) {
    long item = -1;
    ck_assert_status(mtask_queue_get(queue, &item, MTASK_NOWAIT), MTASK_OK);
    return item;
}

#endif
