#!/usr/bin/env bash
# config_coro.sh - mtask_coro.h in the programs that it may meet: C and C++, with exceptions, with
# each option, switched by ucontext, implemented apart from the others, as a shared library, under
# Valgrind, and in a debugger, whose backtraces must end where a coroutine begins.
# shellcheck source=tests/lib.sh
. "$(dirname "$0")/lib.sh"

# What the programs below have in common: a bit of everything.
cat >"$OUT/use.h" <<'END'
#include "mtask_coro.h"
#include "mtask_queue.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>

#define USED_OR_NOT static __attribute__((unused))

/* Leaves the function with the number of the line unless the condition holds. */
#define NEED(condition)                                                                            \
 do {                                                                                              \
  if (!(condition))                                                                                \
   return __LINE__;                                                                                \
 } while (0)

static void *count(void *to) {
    for (long i = 1; i <= (long)to; i++)
        if (mtask_coro_yield((void *)i, NULL) != MTASK_OK)
            return (void *)-1L;
    return NULL;
}

static void *sum_of_sums(void *to) {
    mtask_coro *numbers;
    long sum = 0;
    double half = 0;
    if (mtask_coro_create(&numbers, count, to) != MTASK_OK)
        return mtask_fail(MTASK_NOMEM, NULL);
    MTASK_FOREACH(n, numbers) {
        sum += (long)n;
        half += (double)(long)n / 2;
        if (mtask_coro_yield((void *)sum, NULL) != MTASK_OK)
            break;
    }
    (void)mtask_coro_close(numbers);
    (void)mtask_coro_destroy(numbers);
    return half * 2 > (double)sum || half * 2 < (double)sum ? NULL : (void *)sum;
}

struct two {
    mtask_coro *a, *b;
    long hops;
};

static void *hop(void *arg) {
    struct two *both = (struct two *)arg;
    void *in = NULL;
    while (both->hops++ < 1000)
        if (mtask_coro_transfer(mtask_coro_current() == both->a ? both->b : both->a,
                                (void *)both->hops, &in) != MTASK_OK)
            return NULL;
    return in;
}

static void *fail(void *text) {
    return mtask_fail(MTASK_BROKEN, "%s", (const char *)text);
}

static int use_coroutines(void) {
    struct two both;
    mtask_coro *sums, *failing;
    mtask_outcome outcome;
    void *out;
    NEED(mtask_coro_create(&sums, sum_of_sums, (void *)4L) == MTASK_OK);
    for (long i = 1; i <= 4; i++)
        NEED(mtask_coro_next(sums, &out) && (long)out == i * (i + 1) / 2);
    NEED(mtask_coro_resume(sums, NULL, &out) == MTASK_DONE && (long)out == 10);
    NEED(mtask_coro_destroy(sums) == MTASK_OK);
    both.hops = 0;
    NEED(mtask_coro_create(&both.a, hop, &both) == MTASK_OK);
    NEED(mtask_coro_create(&both.b, hop, &both) == MTASK_OK);
    NEED(mtask_coro_resume(both.a, NULL, &out) == MTASK_DONE && (long)out == 1000);
    NEED(mtask_coro_close(both.a) == MTASK_OK && mtask_coro_close(both.b) == MTASK_OK);
    NEED(mtask_coro_destroy(both.a) == MTASK_OK && mtask_coro_destroy(both.b) == MTASK_OK);
    NEED(mtask_coro_create(&failing, fail, (void *)"torn") == MTASK_OK);
    NEED(mtask_coro_resume(failing, NULL, &out) == MTASK_FAILED && out == NULL);
    NEED(mtask_coro_outcome(failing, &outcome) == MTASK_FAILED);
    NEED(outcome.status == MTASK_BROKEN && strcmp(outcome.text, "torn") == 0);
    NEED(mtask_coro_destroy(failing) == MTASK_OK);
    return mtask_coro_stacks().in_use == 0 ? 0 : __LINE__;
}

#ifdef MTASK_CORO_NO_LOOP
USED_OR_NOT int work(void) {
    return use_coroutines();
}
#else

struct shop {
    mtask_queue queue;
    mtask_mutex lock;
    long made, sold;
};

static void *produce(void *arg) {
    struct shop *shop = (struct shop *)arg;
    for (long i = 1; i <= 100; i++) {
        if (mtask_queue_put(&shop->queue, &i, MTASK_FOREVER) != MTASK_OK)
            return mtask_fail(MTASK_BROKEN, "put");
        (void)mtask_mutex_lock(&shop->lock);
        shop->made += i;
        if (i % 10 == 0)
            (void)mtask_sleep(MTASK_US(50));
        (void)mtask_mutex_unlock(&shop->lock);
    }
    return arg;
}

static void *consume(void *arg) {
    struct shop *shop = (struct shop *)arg;
    long item;
    while (mtask_queue_get(&shop->queue, &item, MTASK_FOREVER) == MTASK_OK) {
        (void)mtask_mutex_lock(&shop->lock);
        shop->sold += item;
        (void)mtask_mutex_unlock(&shop->lock);
        if (mtask_yield() != MTASK_OK)
            break;
    }
    return arg;
}

static void *sleep_long(void *arg) {
    return mtask_sleep(MTASK_SEC(1000)) == MTASK_CANCELED ? arg : NULL;
}

/* The line that failed, as a pointer; NULL: none. */
static long trade(struct shop *shop) {
    mtask_call calls[3] = {{produce, shop}, {produce, shop}, {produce, shop}};
    mtask_future *seller, *sleeper;
    mtask_queue_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.item_size = sizeof(long);
    desc.capacity = 1;
    NEED(mtask_queue_init(&shop->queue, &desc) == MTASK_OK);
    NEED(mtask_go(consume, shop, &seller) == MTASK_OK);
    NEED(mtask_go(sleep_long, shop, &sleeper) == MTASK_OK);
    NEED(mtask_gather(calls, 3, NULL) == MTASK_OK);
    NEED(mtask_queue_close(&shop->queue) == MTASK_OK);
    NEED(mtask_future_get(seller, NULL, MTASK_FOREVER) == MTASK_OK);
    NEED(mtask_future_cancel(sleeper) == MTASK_OK);
    (void)mtask_future_wait(sleeper, MTASK_FOREVER);
    mtask_future_release(seller);
    mtask_future_release(sleeper);
    NEED(shop->made == 3 * 5050 && shop->sold == 3 * 5050);
    NEED(mtask_with_timeout(MTASK_MS(1), sleep_long, shop, NULL) == MTASK_TIMEOUT);
    NEED(use_coroutines() == 0 || mtask_coro_stacks().in_use > 0);
    return mtask_queue_deinit(&shop->queue) == MTASK_OK ? 0 : __LINE__;
}

static void *first_task(void *arg) {
    return (void *)trade((struct shop *)arg);
}

USED_OR_NOT int work(void) {
    struct shop shop;
    mtask_outcome outcome;
    memset(&shop, 0, sizeof shop);
    NEED(use_coroutines() == 0);
    NEED(mtask_loop_run(first_task, &shop, &outcome) == MTASK_OK);
    return (int)(long)outcome.value;
}
#endif

USED_OR_NOT int tell(int line) {
    if (line != 0)
        fprintf(stderr, "use.h:%d: failed\n", line);
    return line != 0;
}
END

printf '#define MTASK_IMPLEMENTATION\n#include "mtask_coro.h"\n#include "mtask_queue.h"\n' \
    >"$OUT/all.c"
printf '#include "use.h"\nint main(void) {\n    return tell(work());\n}\n' >"$OUT/main.c"
cat "$OUT/all.c" "$OUT/main.c" >"$OUT/one.c"

WITH=

# ---- flags and options, in C and in C++ ----

avx2=
grep -q ' avx2 ' /proc/cpuinfo && avx2=-mavx2
cet=
[ "$(uname -m)" = x86_64 ] && cet=-fcf-protection=full
for flags in "-O3 -fno-omit-frame-pointer $avx2 $cet" "-O2 -flto" \
    "-O0 -DMTASK_CORO_CHECK=1 -DMTASK_CORO_CENSUS=1 -DMTASK_DEBUG=1" \
    "-O2 -D_FORTIFY_SOURCE=2 -DMTASK_CORO_UCONTEXT" "-O1 -DMTASK_CORO_NO_LOOP"; do
    # shellcheck disable=SC2086 # lists of words
    run "gcc $flags" gcc -std=c11 $WARN $flags "$OUT/one.c"
done
for flags in "-O1 -DMTASK_CORO_NO_FPU -DMTASK_LOOP_POLL" "-O2 $cet -DMTASK_FORCE_POSIX" \
    "-O1 -D_FORTIFY_SOURCE=2 -DMTASK_CORO_UCONTEXT -DMTASK_CORO_CHECK=1 -DMTASK_CORO_NO_LOOP"; do
    # shellcheck disable=SC2086
    run "clang $flags" clang -std=c11 $WARN $flags "$OUT/one.c"
done

# An exception is thrown and caught inside a coroutine, while others are suspended.
cat >"$OUT/throw.cpp" <<'END'
#include "use.h"
#include <stdexcept>
#include <string>
#include <vector>

struct counter {
    int *count;
    explicit counter(int *where) : count(where) {
    }
    counter(const counter &) = default;
    counter &operator=(const counter &) = default;
    ~counter() {
        ++*count;
    }
};

static int unwound;

static long thrower(long depth, long at) {
    counter here(&unwound);
    if (depth == at)
        throw std::runtime_error("at " + std::to_string(at));
    return thrower(depth + 1, at) + 1;
}

static void *throw_and_catch(void *arg) {
    std::string heard;
    for (long at = 1; at < 5; at++) {
        try {
            (void)thrower(0, at + (long)arg);
        } catch (const std::exception &e) {
            heard = e.what();
        }
        if (mtask_coro_yield(&heard, NULL) != MTASK_OK)
            break;
    }
    return NULL;
}

static int catch_in_turns(void) {
    std::vector<mtask_coro *> coros(10);
    void *heard;
    int expected = 0;
    for (std::size_t i = 0; i < coros.size(); i++)
        NEED(mtask_coro_create(&coros[i], throw_and_catch, (void *)i) == MTASK_OK);
    for (long at = 1; at < 5; at++)
        for (std::size_t i = 0; i < coros.size(); i++) {
            NEED(mtask_coro_resume(coros[i], NULL, &heard) == MTASK_OK);
            NEED(*(std::string *)heard == "at " + std::to_string(at + (long)i));
            expected += (int)at + (int)i + 1;
            NEED(unwound == expected);
        }
    for (mtask_coro *coro : coros)
        NEED(mtask_coro_close(coro) == MTASK_OK && mtask_coro_destroy(coro) == MTASK_OK);
    try {
        (void)thrower(0, 3);
    } catch (...) {
        return 0;
    }
    return __LINE__;
}

int main() {
    return tell(work()) + tell(catch_in_turns());
}
END
cat "$OUT/all.c" "$OUT/throw.cpp" >"$OUT/all.cpp"
for cxx in "g++ -std=c++11 -O1" "clang++ -std=c++20 -O1" \
    "g++ -std=c++20 -O2 -DMTASK_CORO_UCONTEXT -DMTASK_CORO_NO_LOOP"; do
    # shellcheck disable=SC2086
    run "$cxx, exceptions" $cxx $WARN "$OUT/all.cpp"
done

# ---- the headers in several files ----

printf '#define MTASK_IMPLEMENTATION\n#include "mtask.h"\n' >"$OUT/base.c"
printf '#define MTASK_CORO_IMPLEMENTATION\n#include "mtask_coro.h"\n' >"$OUT/coro.c"
printf '#define MTASK_QUEUE_IMPLEMENTATION\n#include "mtask_queue.h"\n' >"$OUT/queue.c"
for cc in "gcc -std=c11" "g++ -x c++ -std=c++17"; do
    # shellcheck disable=SC2086
    run "split implementation, $cc" $cc $WARN -O0 "$OUT/base.c" "$OUT/queue.c" \
        "$OUT/coro.c" "$OUT/main.c"
done

# static_part NAME: a file that has all of it, for itself, and uses it in a function of this name.
static_part() {
    cat "$OUT/all.c"
    printf '#include "use.h"\nint %s(void);\nint %s(void) {\n    return tell(work());\n}\n' "$1" "$1"
}
static_part first >"$OUT/first.c"
static_part second >"$OUT/second.c"
printf '%s\n' 'int first(void);' 'int second(void);' 'int main(void) {' \
    '    return first() + second() + first();' '}' >"$OUT/both.c"
# shellcheck disable=SC2086
run "static in two files" gcc -std=c11 $WARN -O0 -DMTASK_STATIC "$OUT/first.c" \
    "$OUT/second.c" "$OUT/both.c"

# Files that switch in different ways do not link.
# shellcheck disable=SC2086
try "a file for ucontext" gcc -std=c11 $WARN -O0 -pthread -I. -I"$OUT" -DMTASK_CORO_UCONTEXT \
    -c "$OUT/main.c" -o "$OUT/main.o"
refuse "ucontext beside assembly" built_with_MTASK_CORO_UCONTEXT gcc -std=c11 -O0 -I. -pthread \
    "$OUT/all.c" "$OUT/main.o" -o "$OUT/mixed"

# A library that is loaded by dlopen: by itself, and with generators that the program runs.
cat >"$OUT/library.c" <<'END'
#include "use.h"
int library_work(void);
int library_work(void) {
    return work();
}
mtask_coro *library_numbers(void);
mtask_coro *library_numbers(void) {
    mtask_coro *numbers = NULL;
    return mtask_coro_create(&numbers, count, (void *)10L) == MTASK_OK ? numbers : NULL;
}
END
cat >"$OUT/load.c" <<'END'
#include "use.h"
#include <dlfcn.h>
int main(int argc, char **argv) {
    int (*work_there)(void);
    mtask_coro *(*numbers)(void);
    mtask_coro *coro;
    long sum = 0;
    void *library = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
    NEED(argc > 2 && library != NULL);
    *(void **)&work_there = dlsym(library, "library_work");
    *(void **)&numbers = dlsym(library, "library_numbers");
    NEED(work_there != NULL && numbers != NULL && work_there() == 0);
    NEED(use_coroutines() == 0);
    if (strcmp(argv[2], "shared") != 0)
        return 0; /* this program and the library keep house apart */
    coro = numbers();
    NEED(coro != NULL);
    MTASK_FOREACH(n, coro)
        sum += (long)n;
    NEED(sum == 55);
    return mtask_coro_destroy(coro) == MTASK_OK ? 0 : __LINE__;
}
END
cat "$OUT/all.c" "$OUT/library.c" >"$OUT/library_all.c"
cat "$OUT/all.c" "$OUT/load.c" >"$OUT/load_all.c"

# load HOW FLAGS...: a program, linked with these flags, loads the library.
load() {
    local how=$1
    shift
    timeout 120 gcc -std=c11 -O0 -Wall -Werror "$@" -pthread -I. -I"$OUT" "$OUT/load_all.c" \
        -o "$OUT/load-$how" -ldl && timeout 120 "$OUT/load-$how" "$OUT/library.so" "$how"
}
# shellcheck disable=SC2086
try "library" gcc -std=c11 $WARN -O1 -fPIC -shared -pthread -I. -I"$OUT" "$OUT/library_all.c" \
    -o "$OUT/library.so"
check "program that shares coroutines with a library" load shared -rdynamic
check "program and library apart" load apart

# ---- what options report ----

# The stack is the upper part of a block: what overflows it spoils the lower part.
cat >"$OUT/check.c" <<'END'
#include "use.h"
static char block[65536];
static long fall(long depth) {
    volatile char frame[4096];
    for (int i = 0; i < 4096; i++)
        frame[i] = (char)depth;
    return depth == 0 ? frame[0] : fall(depth - 1) + frame[4095];
}
static void *overflow(void *depth) {
    (void)mtask_coro_yield(NULL, NULL);
    return (void *)fall((long)depth);
}
static mtask_coro *begin(long depth) {
    mtask_coro_desc desc;
    mtask_coro *coro;
    memset(&desc, 0, sizeof desc);
    desc.fn = overflow;
    desc.arg = (void *)depth;
    desc.stack = block + sizeof block - 16384;
    desc.stack_size = 16384;
    if (mtask_coro_create_ex(&coro, &desc) != MTASK_OK)
        return NULL;
    return mtask_coro_resume(coro, NULL, NULL) == MTASK_OK ? coro : NULL;
}
int main(void) {
    mtask_coro *coro = begin(1);
    NEED(coro != NULL && mtask_coro_resume(coro, NULL, NULL) == MTASK_DONE);
    NEED(mtask_coro_destroy(coro) == MTASK_OK);
    coro = begin(6);
    NEED(coro != NULL && mtask_coro_resume(coro, NULL, NULL) == MTASK_OVERFLOW);
    coro = begin(6);
    NEED(coro != NULL && mtask_coro_close(coro) == MTASK_OVERFLOW);
    return 0;
}
END
cat "$OUT/all.c" "$OUT/check.c" >"$OUT/check_all.c"
for flags in "" -DMTASK_CORO_UCONTEXT; do
    # shellcheck disable=SC2086
    run "overflow is reported $flags" gcc -std=c11 -O0 -Wall $flags \
        -DMTASK_CORO_CHECK=1 -DMTASK_CORO_NO_LOOP "$OUT/check_all.c"
done

cat >"$OUT/census.c" <<'END'
#include "use.h"
static long use_stack(long depth) {
    volatile char frame[1000];
    for (int i = 0; i < 1000; i++)
        frame[i] = (char)(depth + 1);
    return depth == 0 ? frame[0] : use_stack(depth - 1) + frame[999];
}
static void *dig(void *depth) {
    return (void *)use_stack((long)depth);
}
static int create_many(void) {
    mtask_coro *coro;
    for (long depth = 0; depth <= 50; depth += 10) {
        NEED(mtask_coro_create(&coro, dig, (void *)depth) == MTASK_OK); /* HERE */
        NEED(mtask_coro_resume(coro, NULL, NULL) == MTASK_DONE);
        NEED(mtask_coro_destroy(coro) == MTASK_OK);
    }
    return 0;
}
static int create_small(void) {
    mtask_coro_desc desc;
    mtask_coro *coro;
    memset(&desc, 0, sizeof desc);
    desc.fn = dig;
    desc.name = "digger";
    desc.site = "the small ones";
    desc.stack_size = 65536;
    for (int i = 0; i < 3; i++) {
        NEED(mtask_coro_create_ex(&coro, &desc) == MTASK_OK);
        NEED(mtask_coro_resume(coro, NULL, NULL) == MTASK_DONE);
        NEED(mtask_coro_destroy(coro) == MTASK_OK);
    }
    return 0;
}
static const mtask_coro_site *find(const mtask_coro_site *sites, size_t n, const char *what) {
    for (size_t i = 0; i < n; i++)
        if (strstr(sites[i].site, what) != NULL)
            return &sites[i];
    return NULL;
}
int main(void) {
    const mtask_coro_site *site;
    mtask_coro_site sites[8];
    size_t n = 99;
    NEED(mtask_coro_census(sites, 8, &n) == MTASK_OK && n == 0);
    NEED(create_many() == 0 && create_small() == 0);
    NEED(mtask_coro_census(sites, 1, &n) == MTASK_OVERFLOW && n == 2);
    NEED(mtask_coro_census(sites, 8, &n) == MTASK_OK && n == 2);
    site = find(sites, n, "census_all.c:" LINE);
    NEED(site != NULL && site->count == 6);
    NEED(site->stack_size > 200000 && site->stack_size <= 262144);
    NEED(site->stack_used > 51000 && site->stack_used < 70000); /* of the one that used most */
    site = find(sites, n, "the small ones");
    NEED(site != NULL && site->count == 3 && strcmp(site->name, "digger") == 0);
    NEED(site->stack_size <= 65536 && site->stack_used > 1000 && site->stack_used < 8192);
    return 0;
}
END
cat "$OUT/all.c" "$OUT/census.c" >"$OUT/census_all.c"
line=$(grep -n HERE "$OUT/census_all.c" | cut -d: -f1)
for cc in "gcc -O0" "clang -O0 -DMTASK_CORO_UCONTEXT"; do
    # shellcheck disable=SC2086
    run "census, $cc" $cc -std=c11 -Wall -DLINE="\"$line\"" -DMTASK_CORO_CENSUS=1 \
        -DMTASK_CORO_NO_LOOP "$OUT/census_all.c"
done

# ---- the tests of coroutines, switched by ucontext ----

ASAN="-g -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer"
export ASAN_OPTIONS=detect_leaks=1:detect_stack_use_after_return=1 MTASK_TEST_SCALE=10
export TSAN_OPTIONS=halt_on_error=1:suppressions=tests/tsan.supp CK_TIMEOUT_MULTIPLIER=4

# What TSan programs need in front to run on this kernel: nothing, or setarch -R.
runner=
echo 'int main(void) { return 0; }' >"$OUT/nothing.c"
gcc -fsanitize=thread "$OUT/nothing.c" -o "$OUT/nothing" &&
    ! "$OUT/nothing" >/dev/null 2>&1 && setarch -R "$OUT/nothing" && runner="timeout -k 5 300 setarch -R"

# test_ucontext NAME RUNNER COMMAND...: tests/test_mtask_coro.c, compiled so.
test_ucontext() {
    local name=$1
    WITH=$2
    shift 2
    # shellcheck disable=SC2046 # lists of words
    run "tests by ucontext, $name" "$@" -std=c11 -DMTASK_CORO_UCONTEXT -DMTASK_CORO_NO_LOOP \
        "$OUT/all.c" tests/test_mtask_coro.c $(pkg-config --cflags --libs check) -lm
}
test_ucontext gcc "" gcc -O2 -D_FORTIFY_SOURCE=2
# shellcheck disable=SC2086
test_ucontext ASan "" clang -O1 $ASAN
test_ucontext TSan "$runner" gcc -O1 -g -fsanitize=thread -Wno-tsan

# ---- Valgrind ----

WITH="timeout -k 5 300 valgrind -q --leak-check=full --error-exitcode=1"
for flags in -O1 "-O0 -DMTASK_CORO_UCONTEXT -DMTASK_CORO_NO_LOOP"; do
    # shellcheck disable=SC2086
    run "Valgrind $flags" gcc -std=c11 -g $flags "$OUT/one.c"
done

# ---- backtraces ----

# A coroutine that was resumed by a coroutine, and has been suspended, stops in a debugger.
cat >"$OUT/stop.c" <<'END'
#include "use.h"
static __attribute__((noinline)) void stop_here(void) {
    __asm__ volatile("");
}
static __attribute__((noinline)) long go_down(long depth) {
    volatile long kept = depth;
    if (depth == 0)
        stop_here();
    else
        kept += go_down(depth - 1);
    return kept;
}
static void *body(void *arg) {
    volatile long result;
    (void)mtask_coro_yield(NULL, NULL);
    result = go_down((long)arg); /* no jump: the caller stays on the stack */
    return (void *)result;
}
static void *resumer(void *inner) {
    (void)mtask_coro_resume((mtask_coro *)inner, NULL, NULL);
    (void)mtask_coro_yield(NULL, NULL);
    (void)mtask_coro_resume((mtask_coro *)inner, NULL, NULL);
    return NULL;
}
static void *task(void *inner) {
    volatile long result;
    mtask_coro *outer;
    if (mtask_coro_create(&outer, resumer, inner) == MTASK_OK) {
        (void)mtask_coro_resume(outer, NULL, NULL);
        (void)mtask_coro_resume(outer, NULL, NULL);
    }
    result = go_down(2); /* and in the task itself */
    return result == 3 ? NULL : inner;
}
int main(void) {
    mtask_coro *inner;
    NEED(mtask_coro_create(&inner, body, (void *)3L) == MTASK_OK);
#ifdef MTASK_CORO_NO_LOOP
    return task(inner) != NULL;
#else
    return mtask_loop_run(task, inner, NULL) != MTASK_OK;
#endif
}
END
cat "$OUT/all.c" "$OUT/stop.c" >"$OUT/stop_all.c"

# backtraces PROGRAM: stops twice in stop_here: in `body`, a coroutine, and in `task`. Each
# backtrace must tell of every call, and end where the stack begins: in an entry of mtask's, or in
# `main` where there is no loop.
backtraces() {
    local output
    output=$(timeout -k 5 60 gdb -q -nx -batch -ex 'set debuginfod enabled off' -ex 'break stop_here' -ex run \
        -ex bt -ex 'echo ----\n' -ex continue -ex bt -ex 'echo ----\n' -ex kill "$1" 2>&1)
    printf '%s\n' "$output" | awk '
        /^#/ { frames++; last = $0 }
        /^#.* (stop_here|go_down|body|task) / { named++ }
        /corrupt|Backtrace stopped|\?\? |annot access/ { bad = 1 }
        /^----/ { stops++ }
        /^----/ && last !~ / mtask__[a-z_]*(entry|begin) / && (stops == 1 || last !~ / main /) {
            bad = 1
        }
        END { exit bad || stops != 2 || named != 6 + 5 || frames > 15 }' ||
        { printf '%s\n' "$output" && return 1; }
}

if command -v gdb >/dev/null &&
    gdb -q -nx -batch -ex run "$OUT/nothing" 2>&1 | grep -q 'exited normally'; then
    WITH=backtraces
    for cc in "gcc -O0" "clang -O2" "gcc -O2 -DMTASK_CORO_NO_LOOP" \
        "gcc -O0 -DMTASK_CORO_UCONTEXT -DMTASK_CORO_NO_LOOP" \
        "gcc -O2 -DMTASK_CORO_UCONTEXT -DMTASK_CORO_NO_LOOP -D_FORTIFY_SOURCE=2"; do
        # shellcheck disable=SC2086
        run "backtraces, $cc" $cc -std=c11 -g "$OUT/stop_all.c"
    done
fi
collect
finish
