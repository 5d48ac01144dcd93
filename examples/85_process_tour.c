// mkdir -p build && cc -O2 -pthread -I. -o build/85_process_tour examples/85_process_tour.c
//
// A tour of a pool of four processes: map, imap_unordered, one call whose result is waited for, five
// calls of getpid, a call that takes too long, and the pool goes on after it; at the end it is
// closed. What 35_pool_tour.c cannot do, for threads cannot be killed: the long call has a limit of
// time; and a call that crashes costs the pool nothing but that call.
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
//   getpid() in a worker: one of the pool's four
//   getpid() in four calls: one of the pool's four, 4 times
//   We lacked patience and got a MTASK_TIMEOUT
//   With a limit of a second it is killed: MTASK_TIMEOUT
//   One that crashes: MTASK_CRASHED
//   For the moment, the pool remains available for more work: f(21) = 441
//   Now the pool is closed and no longer available: MTASK_CLOSED
#define MTASK_IMPLEMENTATION
#include "mtask_proc.h"
#include "common.h"
#include <signal.h>
#include <unistd.h>

enum { WORKERS = 4, CALLS = 4, ITEMS = 10 };

static mtask_status f(const void *in, size_t size, mtask_buf *out) {
    int x = *(const int *)in, y = x * x;
    (void)size;
    return mtask_buf_append(out, &y, sizeof y);
}

static mtask_status pid(const void *in, size_t size, mtask_buf *out) {
    int number = (int)getpid();
    (void)in, (void)size;
    return mtask_buf_append(out, &number, sizeof number);
}

static mtask_status sleep_ten(const void *in, size_t size, mtask_buf *out) {
    (void)in, (void)size, (void)out;
    return mtask_sleep(seconds(10));
}

static mtask_status crash(const void *in, size_t size, mtask_buf *out) {
    (void)in, (void)size, (void)out;
    raise(SIGKILL); /* as the system does when memory runs short */
    return MTASK_OK;
}

/* apply_async(fn, [x]).get(timeout); `limit`: of time for the task itself, or 0 */
static mtask_status call(mtask_procpool *pool, mtask_bytes_fn fn, int x, int64_t limit,
                         int64_t timeout, int *value) {
    mtask_future *future;
    mtask_outcome outcome;
    mtask_proctask_desc task = {.fn = fn, .in = &x, .in_size = sizeof x, .time_limit = limit};
    MUST(mtask_procpool_submit_ex(pool, &task, &future, MTASK_FOREVER));
    mtask_status status = mtask_future_get(future, &outcome, timeout);
    if (status == MTASK_OK && mtask_future_bytes(future, NULL) != NULL)
        *value = *(const int *)mtask_future_bytes(future, NULL);
    mtask_future_release(future);
    return status == MTASK_FAILED ? outcome.status : status;
}

static void map(mtask_procpool *pool) {
    int x[ITEMS], y[ITEMS];
    mtask_procmap_desc desc = {
        .fn = f, .count = ITEMS, .in = x, .in_size = sizeof *x, .out = y, .out_size = sizeof *y};
    for (int i = 0; i < ITEMS; i++)
        x[i] = i;
    MUST(mtask_procpool_map(pool, &desc, NULL, MTASK_FOREVER));
    for (int i = 0; i < ITEMS; i++)
        printf("%s%d%s", i == 0 ? "[" : "", y[i], i == ITEMS - 1 ? "]\n" : ", ");
}

static mtask_status range(mtask_buf *in, void *ctx) {
    int *next = (int *)ctx;
    if (*next == ITEMS)
        return MTASK_DONE;
    mtask_status status = mtask_buf_append(in, next, sizeof *next);
    ++*next;
    return status;
}

static void imap_unordered(mtask_procpool *pool) {
    mtask_procimap *results;
    mtask_procitem item;
    int next = 0;
    mtask_procimap_desc desc = {.fn = f, .input = range, .ctx = &next};
    MUST(mtask_procpool_imap_unordered(pool, &desc, &results));
    while (mtask_procimap_next(results, &item, MTASK_FOREVER) == MTASK_OK)
        printf("%d\n", *(const int *)item.data);
    mtask_procimap_close(results);
}

/* How many of `count` calls of getpid were made by processes of the pool. */
static int pool_pids(mtask_procpool *pool, int count) {
    pid_t workers[WORKERS];
    int found = 0;
    size_t n = mtask_procpool_pids(pool, workers, WORKERS);
    for (int i = 0; i < count; i++) {
        int number;
        MUST(call(pool, pid, 0, 0, MTASK_FOREVER, &number));
        for (size_t w = 0; w < n && w < WORKERS; w++)
            found += workers[w] == number;
    }
    return found;
}

int main(void) {
    mtask_procpool *pool;
    mtask_procpool_desc desc = {.workers = WORKERS};
    int y;
    MUST(mtask_procpool_create(&pool, &desc));
    map(pool);
    imap_unordered(pool);

    MUST(call(pool, f, 20, 0, MTASK_FOREVER, &y));
    printf("f(20) = %d\n", y);
    printf("getpid() in a worker: %s\n",
           pool_pids(pool, 1) == 1 ? "one of the pool's four" : "another");
    printf("getpid() in four calls: one of the pool's four, %d times\n", pool_pids(pool, CALLS));
    mtask_status status = call(pool, sleep_ten, 0, 0, seconds(1), &y);
    printf("We lacked patience and got a %s\n", mtask_status_name(status));
    status = call(pool, sleep_ten, 0, seconds(1), MTASK_FOREVER, &y);
    printf("With a limit of a second it is killed: %s\n", mtask_status_name(status));
    status = call(pool, crash, 0, 0, MTASK_FOREVER, &y);
    printf("One that crashes: %s\n", mtask_status_name(status));
    MUST(call(pool, f, 21, 0, MTASK_FOREVER, &y));
    printf("For the moment, the pool remains available for more work: f(21) = %d\n", y);

    MUST(mtask_procpool_terminate(pool)); /* which ends the call that still sleeps, too */
    status = mtask_procpool_submit(pool, pid, NULL, 0, NULL);
    printf("Now the pool is closed and no longer available: %s\n", mtask_status_name(status));
    MUST(mtask_procpool_destroy(pool));
    return 0;
}
