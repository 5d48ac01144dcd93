// mkdir -p build && cc -O2 -pthread -I. -o build/35_pool_tour examples/35_pool_tour.c
//
// A tour of a pool of four: map, imap_unordered, one call whose result is waited for, five calls of
// getpid, a call that takes too long, and the pool goes on after it; at the end it is closed.
//
// Threads share the process, so getpid gives the same number everywhere. And a thread cannot be
// killed as Python kills its worker processes: the long call has to listen to an event.
//
// Output (any order):
//   [0, 1, 4, 9, 16, 25, 36, 49, 64, 81]
//   0
//   1
//   4
//   9
//   16
//   25
//   36
//   49
//   64
//   81
//   f(20) = 400
//   getpid() in a worker: the number of this process
//   getpid() in four calls: the number of this process, 4 times
//   We lacked patience and got a MTASK_TIMEOUT
//   For the moment, the pool remains available for more work: f(21) = 441
//   Now the pool is closed and no longer available: MTASK_CLOSED
#define MTASK_IMPLEMENTATION
#include "mtask_pool.h"
#include "common.h"
#include <unistd.h>

enum { CALLS = 4, ITEMS = 10 };

static mtask_event stop;

static void f(const void *in, void *out, void *ctx) {
    (void)ctx;
    *(int *)out = *(const int *)in * *(const int *)in;
}

static void *f_of(void *arg) {
    int out;
    f(arg, &out, NULL);
    return (void *)(intptr_t)out;
}

static void *pid(void *arg) {
    (void)arg;
    return (void *)(intptr_t)getpid();
}

static void *sleep_ten(void *arg) {
    (void)arg;
    if (mtask_event_wait(&stop, seconds(10)) == MTASK_OK)
        return mtask_fail(MTASK_CANCELED, "it was asked to stop");
    return NULL;
}

/* apply_async(fn, arg).get(timeout) */
static mtask_status call(mtask_pool *pool, mtask_fn fn, void *arg, int64_t timeout, long *value) {
    mtask_future *future;
    mtask_outcome outcome;
    MUST(mtask_pool_submit(pool, fn, arg, &future));
    mtask_status status = mtask_future_get(future, &outcome, timeout);
    *value = status == MTASK_OK ? (long)(intptr_t)outcome.value : 0;
    mtask_future_release(future);
    return status;
}

static void map(mtask_pool *pool) {
    int x[ITEMS], y[ITEMS];
    mtask_map_desc desc = {
        .fn = f, .count = ITEMS, .in = x, .in_size = sizeof *x, .out = y, .out_size = sizeof *y};
    for (int i = 0; i < ITEMS; i++)
        x[i] = i;
    MUST(mtask_pool_map(pool, &desc, NULL));
    for (int i = 0; i < ITEMS; i++)
        printf("%s%d%s", i == 0 ? "[" : "", y[i], i == ITEMS - 1 ? "]\n" : ", ");
}

static mtask_status range(void *in, void *ctx) {
    int *next = (int *)ctx;
    *(int *)in = *next;
    return (*next)++ < ITEMS ? MTASK_OK : MTASK_DONE;
}

static void imap_unordered(mtask_pool *pool) {
    mtask_imap *results;
    mtask_item item;
    int next = 0;
    mtask_imap_desc desc = {
        .fn = f, .input = range, .ctx = &next, .in_size = sizeof(int), .out_size = sizeof(int)};
    MUST(mtask_pool_imap_unordered(pool, &desc, &results));
    while (mtask_imap_next(results, &item, MTASK_FOREVER) == MTASK_OK)
        printf("%d\n", *(int *)item.out);
    mtask_imap_close(results);
}

static void four_pids(mtask_pool *pool) {
    mtask_future *futures[CALLS];
    int same = 0;
    for (int i = 0; i < CALLS; i++)
        MUST(mtask_pool_submit(pool, pid, NULL, &futures[i]));
    for (int i = 0; i < CALLS; i++) {
        mtask_outcome outcome;
        MUST(mtask_future_get(futures[i], &outcome, MTASK_FOREVER));
        same += (intptr_t)outcome.value == getpid();
        mtask_future_release(futures[i]);
    }
    printf("getpid() in four calls: the number of this process, %d times\n", same);
}

int main(void) {
    mtask_pool *pool;
    mtask_pool_desc desc = {.workers = 4};
    int x = 20;
    long y;
    MUST(mtask_pool_create(&pool, &desc));
    map(pool);
    imap_unordered(pool);

    MUST(call(pool, f_of, &x, MTASK_FOREVER, &y));
    printf("f(20) = %ld\n", y);
    MUST(call(pool, pid, NULL, MTASK_FOREVER, &y));
    printf("getpid() in a worker: %s\n", y == getpid() ? "the number of this process" : "another");
    four_pids(pool);
    mtask_status status = call(pool, sleep_ten, NULL, seconds(1), &y);
    printf("We lacked patience and got a %s\n", mtask_status_name(status));
    x = 21;
    MUST(call(pool, f_of, &x, MTASK_FOREVER, &y));
    printf("For the moment, the pool remains available for more work: f(21) = %ld\n", y);

    mtask_event_set(&stop);
    MUST(mtask_pool_terminate(pool));
    status = mtask_pool_post(pool, pid, NULL);
    printf("Now the pool is closed and no longer available: %s\n", mtask_status_name(status));
    MUST(mtask_pool_destroy(pool));
    return 0;
}
