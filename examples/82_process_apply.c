// mkdir -p build && cc -O2 -pthread -I. -o build/82_process_apply examples/82_process_apply.c
//
// apply and apply_async on processes. The first waits for the result: three calls take three
// seconds. The second goes on at once, and has a callback run with the result, or with the failure:
// ten calls on five workers take two seconds. Callbacks run in the parent process.
//
// Output (any order):
//   apply foo(0): 100
//   apply foo(1): 101
//   apply foo(2): 102
//   3 calls took 3.001 seconds
//   foo(0) gave logger: 100, made by a child of the process of this callback, the parent
//   foo(1) gave logger: 101, made by a child of the process of this callback, the parent
//   foo(2) gave logger: 102, made by a child of the process of this callback, the parent
//   foo(3) gave logger: 103, made by a child of the process of this callback, the parent
//   foo(4) gave logger: 104, made by a child of the process of this callback, the parent
//   foo(5) gave logger: 105, made by a child of the process of this callback, the parent
//   foo(6) gave logger: 106, made by a child of the process of this callback, the parent
//   foo(7) gave logger: MTASK_INVALID, 7 is not allowed
//   foo(8) gave logger: 108, made by a child of the process of this callback, the parent
//   foo(9) gave logger: 109, made by a child of the process of this callback, the parent
//   10 calls took 2.001 seconds
//   end
#define MTASK_IMPLEMENTATION
#include "mtask_proc.h"
#include "common.h"
#include <unistd.h>

enum { WORKERS = 5, CALLS = 10, FORBIDDEN = 7 };

typedef struct Result {
    int value;
    pid_t pid, parent; /* of who made it */
} Result;

static pid_t main_pid;

static mtask_status foo(const void *in, size_t size, mtask_buf *out) {
    int i = *(const int *)in;
    Result result = {.value = i + 100, .pid = getpid(), .parent = getppid()};
    (void)size;
    MUST(mtask_sleep(seconds(1)));
    if (i == FORBIDDEN) {
        mtask_fail(MTASK_INVALID, "%d is not allowed", i);
        return MTASK_INVALID;
    }
    return mtask_buf_append(out, &result, sizeof result);
}

static void bar(const void *data, size_t size, void *ctx) {
    const Result *result = (const Result *)data;
    bool child = result->pid != getpid() && result->parent == getpid();
    (void)size;
    printf("foo(%d) gave logger: %d, made by %s of the process of this callback, %s\n",
           *(const int *)ctx, result->value, child ? "a child" : "no child",
           getpid() == main_pid ? "the parent" : "another one");
}

static void bar_failed(const mtask_outcome *outcome, void *ctx) {
    printf("foo(%d) gave logger: %s, %s\n", *(const int *)ctx, mtask_status_name(outcome->status),
           outcome->text);
}

static void apply(mtask_procpool *pool, int i) {
    mtask_buf out = {0};
    MUST(mtask_procpool_call(pool, foo, &i, sizeof i, &out, NULL, MTASK_FOREVER));
    printf("apply foo(%d): %d\n", i, ((const Result *)(void *)out.data)->value);
    mtask_buf_free(&out);
}

static void apply_async(mtask_procpool *pool, int *i) {
    mtask_proctask_desc task = {.fn = foo,
                                .in = i,
                                .in_size = sizeof *i,
                                .on_success = bar,
                                .on_failure = bar_failed,
                                .ctx = i};
    MUST(mtask_procpool_submit_ex(pool, &task, NULL, MTASK_FOREVER));
}

int main(void) {
    mtask_procpool *pool;
    mtask_procpool_desc desc = {.workers = WORKERS};
    int calls[CALLS];
    main_pid = getpid();
    MUST(mtask_procpool_create(&pool, &desc));
    int64_t start = mtask_now();
    for (int i = 0; i < 3; i++)
        apply(pool, i);
    printf("3 calls took %.3f seconds\n", seconds_since(start));

    start = mtask_now();
    for (int i = 0; i < CALLS; i++) {
        calls[i] = i;
        apply_async(pool, &calls[i]);
    }
    MUST(mtask_procpool_close(pool));
    MUST(mtask_procpool_join(pool, MTASK_FOREVER));
    printf("%d calls took %.3f seconds\n", CALLS, seconds_since(start));
    MUST(mtask_procpool_destroy(pool));
    printf("end\n");
    return 0;
}
