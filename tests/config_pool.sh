#!/usr/bin/env bash
# config_pool.sh - mtask_pool.h in the programs that it may meet: C and C++, implemented apart from
# the others, static in several files, without stb_ds, without optimisation, and with the system's
# fence refused.
# shellcheck source=tests/lib.sh
. "$(dirname "$0")/lib.sh"

# What the programs below have in common: a bit of everything.
cat >"$OUT/use.h" <<'END'
#include "mtask_pool.h"

static void *fib(void *arg) {
    long n = (long)arg;
    void *a = NULL;
    mtask_job job;
    long b;
    if (n < 2)
        return arg;
    if (mtask_job_spawn(&job, fib, (void *)(n - 1)) != MTASK_OK)
        return mtask_fail(MTASK_BROKEN, NULL);
    b = (long)fib((void *)(n - 2));
    if (mtask_job_sync(&job, &a) != MTASK_OK)
        return mtask_fail(MTASK_BROKEN, NULL);
    return (void *)((long)a + b);
}

static void square(const void *in, void *out, void *ctx) {
    (void)ctx;
    *(long *)out = *(const long *)in * *(const long *)in;
}

static mtask_status count_up(void *in, void *ctx) {
    long *next = (long *)ctx;
    *(long *)in = *next;
    return (*next)++ < 10 ? MTASK_OK : MTASK_DONE;
}

static int iterate(mtask_pool *pool) {
    mtask_imap_desc desc;
    mtask_imap *imap;
    mtask_item item;
    long next = 0, sum = 0;
    memset(&desc, 0, sizeof desc);
    desc.fn = square;
    desc.input = count_up;
    desc.ctx = &next;
    desc.in_size = desc.out_size = sizeof(long);
    if (mtask_pool_imap(pool, &desc, &imap) != MTASK_OK)
        return 10;
    while (mtask_imap_next(imap, &item, MTASK_FOREVER) == MTASK_OK)
        sum += *(long *)item.out;
    mtask_imap_close(imap);
    return sum == 285 ? 0 : 11;
}

static int work(void) {
    mtask_pool *pool;
    mtask_future *future;
    mtask_outcome outcome;
    mtask_group group;
    int result;
    if (mtask_pool_create(&pool, NULL) != MTASK_OK)
        return 1;
    if (mtask_pool_submit(pool, fib, (void *)20, &future) != MTASK_OK)
        return 2;
    if (mtask_future_get(future, &outcome, MTASK_FOREVER) != MTASK_OK ||
        (long)outcome.value != 6765)
        return 3;
    mtask_future_release(future);
    if ((long)fib((void *)10) != 55) /* by the default pool */
        return 4;
    if (mtask_group_init(&group, pool, 0) != MTASK_OK ||
        mtask_group_post(&group, fib, (void *)5) != MTASK_OK ||
        mtask_group_wait(&group, NULL, MTASK_FOREVER) != MTASK_OK)
        return 5;
    result = iterate(pool);
    return mtask_pool_destroy(pool) == MTASK_OK ? result : 6;
}
END

printf '#define MTASK_IMPLEMENTATION\n#include "mtask_pool.h"\n' >"$OUT/all.c"
printf '#include "use.h"\nint main(void) {\n    return work();\n}\n' >"$OUT/main.c"
cat "$OUT/all.c" "$OUT/main.c" >"$OUT/one.c"

# run NAME PROGRAM COMMAND...: the command must make the program, and that must succeed.
run() {
    local name=$1 program=$2
    shift 2
    try "$name" "$@" -pthread -o "$program" && try "$name: run" "$program"
}

for cc in "gcc -std=c11" "clang++ -x c++ -std=c++20"; do
    for flags in -O0 -O3 -DMTASK_NO_STB_DS -DMTASK_STATIC -DMTASK_DEBUG=1 -DMTASK_FORCE_POSIX \
        "-DMTASK_POOL_SPIN=0 -DMTASK_POOL_DEPTH=0"; do
        # shellcheck disable=SC2086 # lists of words
        run "$cc $flags" "$OUT/one" $cc $WARN -O1 $flags -I. -I"$OUT" "$OUT/one.c"
    done
done
for cc in "clang -std=c11" "g++ -x c++ -std=c++11" "g++ -x c++ -std=c++20" \
    "clang++ -x c++ -std=c++11"; do
    # shellcheck disable=SC2086
    run "$cc" "$OUT/one" $cc $WARN -O2 -I. -I"$OUT" "$OUT/one.c"
done

# Each header implemented in a file of its own.
printf '#define MTASK_QUEUE_IMPLEMENTATION\n#include "mtask_queue.h"\n' >"$OUT/queue.c"
printf '#define MTASK_POOL_IMPLEMENTATION\n#include "mtask_pool.h"\n' >"$OUT/pool.c"
printf '#define MTASK_IMPLEMENTATION\n#include "mtask.h"\n' >"$OUT/base.c"
for cc in "gcc -std=c11" "clang -std=c11" "g++ -x c++ -std=c++17"; do
    # shellcheck disable=SC2086
    run "split implementation, $cc" "$OUT/split" $cc $WARN -D_GNU_SOURCE -O2 -I. -I"$OUT" \
        "$OUT/base.c" "$OUT/queue.c" "$OUT/pool.c" "$OUT/main.c"
done

# As a shared library, where thread-locals are reached in another way.
try "library" gcc -std=c11 $WARN -O2 -fPIC -shared -pthread -I. -I"$OUT" -Dmain=library_main \
    "$OUT/one.c" -o "$OUT/libone.so"
printf 'int library_main(void);\nint main(void) {\n    return library_main();\n}\n' >"$OUT/user.c"
run "program with the library" "$OUT/user" gcc -std=c11 $WARN "$OUT/user.c" "$OUT/libone.so" \
    -Wl,-rpath,"$PWD/$OUT"

# Where the system refuses the fence, jobs do with their own.
cat >"$OUT/refuse.c" <<'END'
#include <errno.h>
#include <stdarg.h>
#include <sys/syscall.h>
#include <unistd.h>
static long refuse(long number, ...) {
    va_list args;
    long a[6];
    va_start(args, number);
    for (int i = 0; i < 6; i++)
        a[i] = va_arg(args, long);
    va_end(args);
    if (number != SYS_membarrier)
        return syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
    errno = ENOSYS;
    return -1;
}
#define syscall(...) refuse(__VA_ARGS__, 0L, 0L, 0L, 0L, 0L, 0L)
END
cat "$OUT/refuse.c" "$OUT/one.c" >"$OUT/refused.c"
run "fence refused" "$OUT/refused" gcc -std=gnu11 -D_GNU_SOURCE -O2 -I. -I"$OUT" "$OUT/refused.c"
finish
