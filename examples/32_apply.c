// mkdir -p build && cc -O2 -pthread -I. -o build/32_apply examples/32_apply.c
//
// apply and apply_async. The first submits and waits: three calls take three seconds. The second
// goes on at once, and has a callback run with the result, or with the failure: ten calls on five
// workers take two seconds. Callbacks run in the worker that made the call, before anybody who waits
// for its future goes on; so they should be quick.
//
// Output (in order by first word):
//   apply foo(0): 100
//   apply foo(1): 101
//   apply foo(2): 102
//   3 calls took 3.001 seconds
//   foo(0) runs
//   foo(1) runs
//   foo(2) runs
//   foo(0) runs
//   foo(1) runs
//   foo(2) runs
//   foo(3) runs
//   foo(4) runs
//   foo(5) runs
//   foo(6) runs
//   foo(7) runs
//   foo(8) runs
//   foo(9) runs
//   foo(0) gave logger: 100, in the worker that ran it
//   foo(1) gave logger: 101, in the worker that ran it
//   foo(2) gave logger: 102, in the worker that ran it
//   foo(3) gave logger: 103, in the worker that ran it
//   foo(4) gave logger: 104, in the worker that ran it
//   foo(5) gave logger: 105, in the worker that ran it
//   foo(6) gave logger: 106, in the worker that ran it
//   foo(7) gave logger: MTASK_INVALID, 7 is not allowed
//   foo(8) gave logger: 108, in the worker that ran it
//   foo(9) gave logger: 109, in the worker that ran it
//   10 calls took 2.001 seconds
//   end
#define MTASK_IMPLEMENTATION
#include "mtask_pool.h"
#include "common.h"
#include <string.h>

enum { WORKERS = 5, CALLS = 10, FORBIDDEN = 7 };

typedef struct Call {
    int i;
    char worker[MTASK_NAME_SIZE]; /* who runs it */
} Call;

static void *foo(void *arg) {
    Call *call = (Call *)arg;
    printf("foo(%d) runs\n", call->i);
    MUST(mtask_sleep(seconds(1)));
    memcpy(call->worker, mtask_thread_current().name, MTASK_NAME_SIZE);
    if (call->i == FORBIDDEN)
        return mtask_fail(MTASK_INVALID, "%d is not allowed", call->i);
    return (void *)(intptr_t)(call->i + 100);
}

static void bar(void *value, void *ctx) {
    const Call *call = (const Call *)ctx;
    bool same = strcmp(call->worker, mtask_thread_current().name) == 0;
    printf("foo(%d) gave logger: %d, in %s\n", call->i, (int)(intptr_t)value,
           same ? "the worker that ran it" : mtask_thread_current().name);
}

static void bar_failed(const mtask_outcome *outcome, void *ctx) {
    printf("foo(%d) gave logger: %s, %s\n", ((const Call *)ctx)->i,
           mtask_status_name(outcome->status), outcome->text);
}

static void apply(mtask_pool *pool, Call *call) {
    mtask_future *future;
    mtask_outcome outcome;
    MUST(mtask_pool_submit(pool, foo, call, &future));
    MUST(mtask_future_get(future, &outcome, MTASK_FOREVER));
    mtask_future_release(future);
    printf("apply foo(%d): %d\n", call->i, (int)(intptr_t)outcome.value);
}

static void apply_async(mtask_pool *pool, Call *call) {
    mtask_task_desc task = {
        .fn = foo, .arg = call, .on_success = bar, .on_failure = bar_failed, .ctx = call};
    MUST(mtask_pool_submit_ex(pool, &task, NULL, MTASK_FOREVER));
}

int main(void) {
    mtask_pool *pool;
    mtask_pool_desc desc = {.workers = WORKERS};
    Call calls[CALLS] = {0};
    int64_t start = mtask_now();

    MUST(mtask_pool_create(&pool, &desc));
    for (int i = 0; i < CALLS; i++)
        calls[i].i = i;
    for (int i = 0; i < 3; i++)
        apply(pool, &calls[i]);
    printf("3 calls took %.3f seconds\n", seconds_since(start));

    start = mtask_now();
    for (int i = 0; i < CALLS; i++)
        apply_async(pool, &calls[i]);
    MUST(mtask_pool_close(pool));
    MUST(mtask_pool_join(pool, MTASK_FOREVER));
    printf("%d calls took %.3f seconds\n", CALLS, seconds_since(start));
    MUST(mtask_pool_destroy(pool));
    printf("end\n");
    return 0;
}
