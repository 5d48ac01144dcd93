// mkdir -p build && cc -O2 -pthread -I. -o build/42_nested examples/42_nested.c
//
// Tasks that wait for tasks. Each of these programs hangs for ever in Python's executor:
//
// - In a pool of one worker, a task submits another and waits for it. Here the worker runs it itself.
// - The same ten levels deep: the numbers from 1 to 1000 are added up by halving the range.
// - Two tasks wait for each other. Nothing can come of that, with any number of workers; here one of
//   the two is told so by MTASK_DEADLOCK, and can go on.
//
// Output:
//   pow(5, 2) = 25, by one worker
//   1 + ... + 1000 = 500500, by 1999 tasks and one worker
//   a circle, 1 worker: MTASK_DEADLOCK for one, which gives 5; so the other gives 11
//   a circle, 2 workers: MTASK_DEADLOCK for one, which gives 5; so the other gives 11
#define MTASK_IMPLEMENTATION
#include "mtask_pool.h"
#include "common.h"

static mtask_pool *pool;
static mtask_word tasks;

/* ---- one worker ---- */

static void *square(void *arg) {
    return (void *)((intptr_t)arg * (intptr_t)arg);
}

static intptr_t result(mtask_future *future) {
    mtask_outcome outcome;
    MUST(mtask_future_get(future, &outcome, MTASK_FOREVER));
    mtask_future_release(future);
    return (intptr_t)outcome.value;
}

static void *wait_on_future(void *arg) {
    mtask_future *future;
    MUST(mtask_pool_submit(pool, square, arg, &future));
    printf("pow(%d, 2) = %d, by one worker\n", (int)(intptr_t)arg, (int)result(future));
    return NULL;
}

typedef struct Range {
    int first, last;
} Range;

static void *sum(void *arg) {
    const Range *range = (const Range *)arg;
    int middle = range->first + (range->last - range->first) / 2;
    Range left = {range->first, middle}, right = {middle + 1, range->last};
    mtask_future *futures[2];
    mtask_word_add(&tasks, 1);
    if (range->first == range->last)
        return (void *)(intptr_t)range->first;
    MUST(mtask_pool_submit(pool, sum, &left, &futures[0]));
    MUST(mtask_pool_submit(pool, sum, &right, &futures[1]));
    intptr_t total = result(futures[0]);
    return (void *)(total + result(futures[1]));
}

static void one_worker(void) {
    mtask_pool_desc desc = {.workers = 1};
    mtask_future *future;
    Range range = {1, 1000};
    MUST(mtask_pool_create(&pool, &desc));
    MUST(mtask_pool_submit(pool, wait_on_future, (void *)5, &future));
    result(future);
    MUST(mtask_pool_submit(pool, sum, &range, &future));
    int total = (int)result(future);
    printf("1 + ... + 1000 = %d, by %u tasks and one worker\n", total, mtask_word_load(&tasks));
    MUST(mtask_pool_destroy(pool));
}

/* ---- a circle ---- */

typedef struct Waiter {
    mtask_event go; /* `other` is known */
    mtask_future *future, *other;
} Waiter;

/* Waits for the other; gives 6 more than that, or 5 if waiting would never end. */
static void *wait_for_other(void *arg) {
    Waiter *waiter = (Waiter *)arg;
    mtask_outcome outcome;
    MUST(mtask_event_wait(&waiter->go, MTASK_FOREVER));
    mtask_status status = mtask_future_get(waiter->other, &outcome, MTASK_FOREVER);
    if (status == MTASK_DEADLOCK)
        return (void *)5;
    MUST(status);
    return (void *)((intptr_t)outcome.value + 6);
}

static void circle(unsigned workers) {
    mtask_pool_desc desc = {.workers = workers};
    Waiter a = {0}, b = {0};
    MUST(mtask_pool_create(&pool, &desc));
    MUST(mtask_pool_submit(pool, wait_for_other, &a, &a.future));
    MUST(mtask_pool_submit(pool, wait_for_other, &b, &b.future));
    a.other = b.future;
    b.other = a.future;
    mtask_event_set(&a.go);
    mtask_event_set(&b.go);
    MUST(mtask_future_wait(a.future, MTASK_FOREVER));
    MUST(mtask_future_wait(b.future, MTASK_FOREVER));
    int x = (int)result(a.future), y = (int)result(b.future);
    printf("a circle, %u worker%s: MTASK_DEADLOCK for one, which gives %d; so the other gives %d\n",
           workers, workers == 1 ? "" : "s", x < y ? x : y, x < y ? y : x);
    MUST(mtask_pool_destroy(pool));
}

int main(void) {
    one_worker();
    circle(1);
    circle(2);
    return 0;
}
