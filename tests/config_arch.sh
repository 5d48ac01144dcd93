#!/usr/bin/env bash
# config_arch.sh - the library on other CPUs, compiled for them and run in an emulator (i386, AArch64,
# ARM in both its states, RISC-V), and with another C library (musl): coroutines by each CPU's own
# switch and by ucontext, loops, threads, a pool.
# shellcheck source=tests/lib.sh
. "$(dirname "$0")/lib.sh"

cat >"$OUT/coroutines.h" <<'END'
/* Values both ways, and floating point that lives across the switches. */
static void *averages(void *arg) {
    double sum = 0, count = 0, average = 0;
    void *in = NULL;
    (void)arg;
    while (mtask_coro_yield(&average, &in) == MTASK_OK) {
        sum += *(double *)in;
        count += 1;
        average = sum / count;
    }
    return NULL;
}

static void test_values(void) {
    mtask_coro *coro;
    void *out = NULL;
    CHECK(mtask_coro_create(&coro, averages, NULL) == MTASK_OK);
    CHECK(mtask_coro_resume(coro, NULL, &out) == MTASK_OK);
    for (int i = 0; i < 1000; i++) {
        double value = i * 0.5, twice = i;
        CHECK(mtask_coro_resume(coro, &value, &out) == MTASK_OK);
        CHECK(*(double *)out * 4 > twice - 0.001 && *(double *)out * 4 < twice + 0.001);
    }
    CHECK(mtask_coro_close(coro) == MTASK_OK);
    CHECK(mtask_coro_destroy(coro) == MTASK_OK);
}

/* Generators in generators: the leaves of a tree, each level a coroutine. */
static long leaf;
static void *leaves(void *depth) {
    for (int i = 0; i < 2; i++) {
        mtask_coro *below;
        if (depth == NULL) {
            leaf++;
            CHECK(mtask_coro_yield(&leaf, NULL) == MTASK_OK);
            continue;
        }
        CHECK(mtask_coro_create(&below, leaves, (char *)depth - 1) == MTASK_OK);
        MTASK_FOREACH(one, below)
            CHECK(mtask_coro_yield(one, NULL) == MTASK_OK);
        CHECK(mtask_coro_destroy(below) == MTASK_OK);
    }
    return NULL;
}

static void test_nested(void) {
    mtask_coro *tree;
    long sum = 0;
    CHECK(mtask_coro_create(&tree, leaves, (char *)NULL + 5) == MTASK_OK);
    MTASK_FOREACH(one, tree)
        sum += *(long *)one;
    CHECK(sum == 64 * 65 / 2 && mtask_coro_status(tree) == MTASK_CORO_ENDED);
    CHECK(mtask_coro_destroy(tree) == MTASK_OK);
}

/* Two that transfer to each other, on stacks of ours. */
static mtask_coro *pair[2];
static _Alignas(64) char stacks[2][32768];
static void *hop(void *arg) {
    long me = (long)arg, hops = 0;
    void *got = NULL;
    for (; hops < 1000; hops++) {
        if (mtask_coro_transfer(pair[1 - me], (void *)(hops + me), &got) != MTASK_OK)
            break;
        CHECK(got == (void *)(hops + 1));
    }
    CHECK(hops == 1000 - me);
    return (void *)hops;
}

static void test_transfer(void) {
    void *out = NULL;
    for (long i = 0; i < 2; i++) {
        mtask_coro_desc desc;
        memset(&desc, 0, sizeof desc);
        desc.fn = hop;
        desc.arg = (void *)i;
        desc.stack = stacks[i];
        desc.stack_size = sizeof stacks[i];
        CHECK(mtask_coro_create_ex(&pair[i], &desc) == MTASK_OK);
    }
    CHECK(mtask_coro_resume(pair[0], NULL, &out) == MTASK_DONE && out == (void *)1000);
    for (int i = 0; i < 2; i++) {
        CHECK(mtask_coro_close(pair[i]) == MTASK_OK);
        CHECK(mtask_coro_destroy(pair[i]) == MTASK_OK);
    }
}

/* The clean-up of one that is closed, and how one fails. */
static void *guarded(void *cleaned) {
    CHECK(mtask_coro_yield(NULL, NULL) == MTASK_CANCELED);
    *(bool *)cleaned = true;
    return NULL;
}

static void *failing(void *arg) {
    CHECK(mtask_coro_yield(arg, NULL) == MTASK_OK);
    return mtask_fail(MTASK_BROKEN, "%s %d %.2f", "stopped at", 7, 2.5);
}

static void test_ends(void) {
    mtask_coro *coro;
    mtask_outcome outcome;
    bool cleaned = false;
    void *out = NULL;
    CHECK(mtask_coro_create(&coro, guarded, &cleaned) == MTASK_OK);
    CHECK(mtask_coro_resume(coro, NULL, NULL) == MTASK_OK && !cleaned);
    CHECK(mtask_coro_close(coro) == MTASK_OK && cleaned);
    CHECK(mtask_coro_destroy(coro) == MTASK_OK);
    CHECK(mtask_coro_create(&coro, failing, &cleaned) == MTASK_OK);
    CHECK(mtask_coro_resume(coro, NULL, &out) == MTASK_OK && out == &cleaned);
    CHECK(mtask_coro_resume(coro, NULL, &out) == MTASK_FAILED && out == NULL);
    CHECK(mtask_coro_outcome(coro, &outcome) == MTASK_FAILED);
    CHECK(outcome.status == MTASK_BROKEN && strcmp(outcome.text, "stopped at 7 2.50") == 0);
    CHECK(mtask_coro_destroy(coro) == MTASK_OK);
}

#ifndef MTASK_CORO_UCONTEXT
/* Each has its own rounding mode. */
static void *rounds_up(void *arg) {
    CHECK(fegetround() == FE_DOWNWARD && fesetround(FE_UPWARD) == 0);
    while (mtask_coro_yield(arg, NULL) == MTASK_OK)
        CHECK(fegetround() == FE_UPWARD);
    CHECK(fegetround() == FE_UPWARD);
    return NULL;
}

static void test_rounding(void) {
    mtask_coro *coro;
    CHECK(fesetround(FE_DOWNWARD) == 0);
    CHECK(mtask_coro_create(&coro, rounds_up, NULL) == MTASK_OK);
    CHECK(fesetround(FE_TOWARDZERO) == 0);
    for (int i = 0; i < 100; i++)
        CHECK(mtask_coro_resume(coro, NULL, NULL) == MTASK_OK && fegetround() == FE_TOWARDZERO);
    CHECK(mtask_coro_close(coro) == MTASK_OK && fegetround() == FE_TOWARDZERO);
    CHECK(mtask_coro_destroy(coro) == MTASK_OK && fesetround(FE_TONEAREST) == 0);
}
#else
static void test_rounding(void) {
}
#endif
END

cat >"$OUT/threads.h" <<'END'
enum { ITEMS = 500 };
static mtask_queue queue;
static mtask_mutex mutex;
static int64_t total; /* under `mutex` */

static void *produce(void *arg) {
    (void)arg;
    for (int64_t i = 1; i <= ITEMS; i++)
        CHECK(mtask_queue_put(&queue, &i, MTASK_FOREVER) == MTASK_OK);
    return NULL;
}

static void *consume(void *arg) {
    int64_t item;
    while (mtask_queue_get(&queue, &item, MTASK_FOREVER) == MTASK_OK)
        MTASK_WITH(&mutex)
            total += item;
    return arg;
}

static void open_queue(void) {
    mtask_queue_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.capacity = 3;
    desc.item_size = sizeof(int64_t);
    CHECK(mtask_queue_init(&queue, &desc) == MTASK_OK);
    total = 0;
}

static void test_threads(void) {
    static mtask_thread makers[2], takers[2];
    int64_t item, begin = mtask_now();
    open_queue();
    CHECK(mtask_queue_get(&queue, &item, MTASK_MS(20)) == MTASK_EMPTY);
    CHECK(mtask_now() - begin >= MTASK_MS(20));
    for (int i = 0; i < 2; i++) {
        CHECK(mtask_thread_start(&makers[i], produce, NULL) == MTASK_OK);
        CHECK(mtask_thread_start(&takers[i], consume, &total) == MTASK_OK);
    }
    for (int i = 0; i < 2; i++)
        CHECK(mtask_thread_join(&makers[i], NULL, MTASK_FOREVER) == MTASK_OK);
    CHECK(mtask_queue_close(&queue) == MTASK_OK);
    for (int i = 0; i < 2; i++)
        CHECK(mtask_thread_join(&takers[i], NULL, MTASK_FOREVER) == MTASK_OK);
    CHECK(total == (int64_t)ITEMS * (ITEMS + 1));
    CHECK(mtask_queue_deinit(&queue) == MTASK_OK);
}

/* A loop whose tasks take from a queue what a thread and another task put there, and two that wait
   for each other's turn. */
static void *sleeper(void *arg) {
    int64_t begin = mtask_now();
    CHECK(mtask_sleep(MTASK_MS(10)) == MTASK_OK && mtask_now() - begin >= MTASK_MS(10));
    return arg;
}

static void *endless(void *arg) {
    return mtask_sleep(MTASK_FOREVER) == MTASK_CANCELED ? arg : NULL;
}

static void *program(void *arg) {
    mtask_future *takers[2], *maker, *asleep;
    static mtask_thread thread;
    mtask_outcome outcome;
    CHECK(mtask_go(consume, &total, &takers[0]) == MTASK_OK);
    CHECK(mtask_go(consume, &total, &takers[1]) == MTASK_OK);
    CHECK(mtask_go(produce, NULL, &maker) == MTASK_OK);
    CHECK(mtask_go(sleeper, arg, &asleep) == MTASK_OK);
    CHECK(mtask_thread_start(&thread, produce, NULL) == MTASK_OK);
    CHECK(mtask_thread_join(&thread, NULL, MTASK_FOREVER) == MTASK_OK);
    CHECK(mtask_future_wait(maker, MTASK_FOREVER) == MTASK_OK);
    CHECK(mtask_queue_close(&queue) == MTASK_OK);
    for (int i = 0; i < 2; i++) {
        CHECK(mtask_future_get(takers[i], &outcome, MTASK_FOREVER) == MTASK_OK);
        CHECK(outcome.value == &total);
        mtask_future_release(takers[i]);
    }
    CHECK(mtask_future_get(asleep, &outcome, MTASK_FOREVER) == MTASK_OK && outcome.value == arg);
    mtask_future_release(asleep);
    mtask_future_release(maker);
    CHECK(mtask_with_timeout(MTASK_MS(5), endless, arg, &outcome) == MTASK_TIMEOUT);
    CHECK(mtask_go(endless, arg, NULL) == MTASK_OK); /* cancelled when this one returns */
    return arg;
}

static void test_loop(void) {
    mtask_outcome outcome;
    open_queue();
    CHECK(mtask_loop_run(program, &queue, &outcome) == MTASK_OK && outcome.value == &queue);
    CHECK(total == (int64_t)ITEMS * (ITEMS + 1));
    CHECK(mtask_queue_deinit(&queue) == MTASK_OK);
}

static void *fib(void *arg) {
    long n = (long)arg, b;
    void *a = NULL;
    mtask_job job;
    if (n < 2)
        return arg;
    CHECK(mtask_job_spawn(&job, fib, (void *)(n - 1)) == MTASK_OK);
    b = (long)fib((void *)(n - 2));
    CHECK(mtask_job_sync(&job, &a) == MTASK_OK);
    return (void *)((long)a + b);
}

static void square(const void *in, void *out, void *ctx) {
    (void)ctx;
    *(int64_t *)out = *(const int64_t *)in * *(const int64_t *)in;
}

static void test_pool(void) {
    mtask_pool_desc desc;
    mtask_pool *pool;
    mtask_future *future;
    mtask_outcome outcome;
    mtask_map_desc map;
    int64_t in[200], out[200];
    memset(&desc, 0, sizeof desc);
    memset(&map, 0, sizeof map);
    desc.workers = 2;
    CHECK(mtask_pool_create(&pool, &desc) == MTASK_OK);
    CHECK(mtask_pool_submit(pool, fib, (void *)12, &future) == MTASK_OK);
    CHECK(mtask_future_get(future, &outcome, MTASK_FOREVER) == MTASK_OK);
    CHECK((long)outcome.value == 144);
    mtask_future_release(future);
    for (int64_t i = 0; i < 200; i++)
        in[i] = i * 1000000;
    map.fn = square;
    map.count = 200;
    map.in = in;
    map.out = out;
    map.in_size = map.out_size = sizeof in[0];
    CHECK(mtask_pool_map(pool, &map, NULL) == MTASK_OK);
    for (int64_t i = 0; i < 200; i++)
        CHECK(out[i] == i * i * INT64_C(1000000000000));
    CHECK(mtask_pool_destroy(pool) == MTASK_OK);
}
END

cat >"$OUT/arch.c" <<'END'
#define MTASK_IMPLEMENTATION
#include "mtask_coro.h"
#include "mtask_pool.h"
#include <fenv.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(condition) ((condition) ? (void)0 : fail(__LINE__, #condition))
static void fail(int line, const char *what) {
    printf("line %d: not so: %s\n", line, what);
    exit(1);
}
#include "coroutines.h"
#include "threads.h"

int main(void) {
    test_values();
    test_nested();
    test_transfer();
    test_ends();
    test_rounding();
    test_threads();
    test_loop();
    test_pool();
    return 0;
}
END

# One line each: name | how to run the program | compiler and flags
PROGRAMS="
i386       | qemu-i386    | i686-linux-gnu-gcc
aarch64    | qemu-aarch64 | aarch64-linux-gnu-gcc
armv7      | qemu-arm     | arm-linux-gnueabihf-gcc -marm
thumb      | qemu-arm     | arm-linux-gnueabihf-gcc -mthumb
riscv64    | qemu-riscv64 | riscv64-linux-gnu-gcc
ucontext   | qemu-aarch64 | aarch64-linux-gnu-gcc -DMTASK_CORO_UCONTEXT
musl       |              | musl-gcc
"

# make_and_run LINE: as it says; writes what went wrong to $OUT/NAME.log, and the exit codes of both
# to $OUT/NAME.compiled and $OUT/NAME.ran.
make_and_run() {
    local name runner compiler
    IFS='|' read -r name runner compiler <<<"$1"
    name=$OUT/${name// /}
    # shellcheck disable=SC2086 # lists of words
    timeout 100 $compiler -std=c11 $WARN -O2 -static -pthread -I. -I"$OUT" -o "$name" \
        "$OUT/arch.c" -lm >"$name.log" 2>&1
    echo $? >"$name.compiled"
    # shellcheck disable=SC2086
    timeout 60 $runner "$name" >>"$name.log" 2>&1
    echo $? >"$name.ran"
}
export -f make_and_run
export OUT WARN

# All at once, as many as there are CPUs; then what came of each.
grep '|' <<<"$PROGRAMS" | xargs -P "$(nproc)" -d '\n' -I{} bash -c 'make_and_run "{}"'
while IFS='|' read -r name runner compiler; do
    name=${name// /}
    output=$(cat "$OUT/$name.log")
    count "$name" "$(cat "$OUT/$name.compiled")" "$compiler ... $OUT/arch.c" "$output" &&
        count "$name: run" "$(cat "$OUT/$name.ran")" "$runner $OUT/$name" "$output"
done < <(grep '|' <<<"$PROGRAMS")

refuse "ucontext with musl" "this C library has no makecontext" \
    musl-gcc -std=c11 -DMTASK_CORO_UCONTEXT -I. -fsyntax-only "$OUT/arch.c"
finish
