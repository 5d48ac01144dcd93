#!/usr/bin/env bash
# config_queue.sh - mtask_queue.h in the programs that it may meet: C++, with and without stb_ds,
# beside a program's own stb_ds, implemented apart from mtask.h, static, copied alone.
# shellcheck source=tests/lib.sh
. "$(dirname "$0")/lib.sh"

# What the programs below have in common.
cat >"$OUT/use.h" <<'END'
#include "mtask_queue.h"

MTASK_QUEUE_TYPE(numbers, int);

/* Fills a queue and drains it; the status of the first call that failed. */
static mtask_status fill(size_t capacity) {
    numbers queue;
    int item = -1;
    mtask_status status = numbers_init(&queue, capacity);
    if (status != MTASK_OK)
        return status;
    for (int i = 0; i < 5000 && status == MTASK_OK; i++)
        status = numbers_put(&queue, i, MTASK_NOWAIT);
    for (int i = 0; i < 5000 && status == MTASK_OK; i++) {
        status = numbers_get(&queue, &item, MTASK_NOWAIT);
        if (status == MTASK_OK && item != i)
            status = MTASK_BROKEN;
    }
    (void)numbers_deinit(&queue);
    return status;
}
END

cat >"$OUT/plain.c" <<'END'
#define MTASK_IMPLEMENTATION
#include "mtask_queue.h"
#include "use.h"
#ifdef UNBOUNDED /* the command says it */
#elif defined(MTASK_NO_STB_DS)
# define UNBOUNDED MTASK_UNSUPPORTED
#else
# define UNBOUNDED MTASK_OK
#endif
int main(void) {
    mtask_queue queue;
    mtask_queue_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.capacity = MTASK_UNBOUNDED;
    desc.item_size = 4;
    desc.kind = MTASK_LIFO;
    if (mtask_queue_init(&queue, &desc) != UNBOUNDED)
        return 1;
    if (UNBOUNDED == MTASK_OK && mtask_queue_deinit(&queue) != MTASK_OK)
        return 2;
    if (fill(MTASK_UNBOUNDED) != UNBOUNDED)
        return 3;
    return fill(5000) == MTASK_OK && fill(4999) == MTASK_FULL ? 0 : 4;
}
END

cat >"$OUT/use.c" <<'END'
#include "mtask_queue.h"
#include <stdio.h>

struct job {
    int rank;
    const char *what;
};
typedef struct point {
    double x, y;
} point;
enum color { RED, GREEN };

MTASK_QUEUE_TYPE(numbers, int);
MTASK_QUEUE_TYPE(jobs, struct job);
MTASK_QUEUE_TYPE(points, point);
MTASK_QUEUE_TYPE(pointers, void *);
MTASK_QUEUE_TYPE(names, const char *);
MTASK_QUEUE_TYPE(job_pointers, const struct job *);
MTASK_QUEUE_TYPE(colors, enum color);
MTASK_QUEUE_TYPE(functions, mtask_fn);

static int by_rank(const void *a, const void *b, void *ctx) {
    (void)ctx;
    return ((const struct job *)a)->rank - ((const struct job *)b)->rank;
}

static void see_job(struct job *job, void *ctx) {
    *(int *)ctx += job->rank;
}

static void see_name(const char **name, void *ctx) {
    *(const char **)ctx = *name;
}

/* All functions of one type: each is used, so each must compile. */
static int use_jobs(void) {
    jobs queue;
    struct job job = {1, "one"}, two[2] = {{3, "three"}, {2, "two"}}, got[3];
    mtask_queue_desc desc;
    mtask_queue_case cases[2];
    size_t n = 0, fired = 9;
    int sum = 0, fd = -1;
    memset(&desc, 0, sizeof desc);
    desc.kind = MTASK_PRIORITY;
    desc.capacity = 3;
    desc.compare = by_rank;
    if (jobs_init_ex(&queue, &desc) != MTASK_OK || jobs_attach(&queue, NULL) != MTASK_INVALID)
        return 1;
    if (jobs_put_many(&queue, two, 2, &n, MTASK_FOREVER) != MTASK_OK || n != 2 ||
        jobs_put(&queue, job, MTASK_NOWAIT) != MTASK_OK || !jobs_is_full(&queue) ||
        jobs_is_empty(&queue) || jobs_size(&queue) != 3 || jobs_unfinished(&queue) != 3)
        return 2;
    if (jobs_peek(&queue, &job) != MTASK_OK || job.rank != 1 ||
        jobs_get(&queue, &job, MTASK_NOWAIT) != MTASK_OK || job.rank != 1 ||
        jobs_task_done(&queue) != MTASK_OK || jobs_join(&queue, MTASK_NOWAIT) != MTASK_TIMEOUT)
        return 3;
    cases[0] = jobs_case_get(&queue, &job);
    cases[1] = jobs_case_put(&queue, two);
    if (mtask_queue_select(cases, 1, &fired, MTASK_FOREVER) != MTASK_OK || fired != 0 ||
        job.rank != 2 || mtask_queue_select(cases + 1, 1, &fired, MTASK_FOREVER) != MTASK_OK)
        return 4;
    if (jobs_get_many(&queue, got, 1, &n, MTASK_NOWAIT) != MTASK_OK || n != 1 || got[0].rank != 3)
        return 5;
    if (jobs_pollfd(&queue, &fd) != MTASK_OK || fd < 0 || jobs_close(&queue) != MTASK_OK ||
        !jobs_is_closed(&queue) || jobs_discard(&queue, see_job, &sum, &n) != MTASK_OK ||
        n != 1 || sum != 3 || jobs_discard(&queue, NULL, NULL, NULL) != MTASK_OK)
        return 6;
    return jobs_deinit(&queue) == MTASK_OK ? 0 : 7;
}

static int use_pointers(void) {
    names queue;
    job_pointers other;
    static const struct job job = {4, "four"};
    const struct job *got = NULL;
    const char *name = NULL;
    const char *const two[2] = {"a", "b"};
    if (names_init(&queue, 3) != MTASK_OK || names_put(&queue, "x", MTASK_NOWAIT) != MTASK_OK ||
        names_put_many(&queue, two, 2, NULL, MTASK_NOWAIT) != MTASK_OK ||
        names_get(&queue, &name, MTASK_NOWAIT) != MTASK_OK || *name != 'x' ||
        names_discard(&queue, see_name, &name, NULL) != MTASK_OK || *name != 'b' ||
        names_deinit(&queue) != MTASK_OK)
        return 11;
    if (job_pointers_init(&other, 1) != MTASK_OK ||
        job_pointers_put(&other, &job, MTASK_NOWAIT) != MTASK_OK ||
        job_pointers_get(&other, &got, MTASK_NOWAIT) != MTASK_OK || got != &job ||
        job_pointers_deinit(&other) != MTASK_OK)
        return 12;
    return 0;
}

static int use_others(void) {
    numbers queue;
    points second;
    point p = {1, 2};
    int n = 0;
    if (numbers_init(&queue, MTASK_UNBOUNDED) != MTASK_OK ||
        numbers_put(&queue, 5, MTASK_FOREVER) != MTASK_OK ||
        numbers_get(&queue, &n, MTASK_FOREVER) != MTASK_OK || n != 5 ||
        numbers_deinit(&queue) != MTASK_OK)
        return 21;
    if (points_init(&second, 1) != MTASK_OK || points_put(&second, p, MTASK_NOWAIT) != MTASK_OK ||
        points_get(&second, &p, MTASK_NOWAIT) != MTASK_OK || points_deinit(&second) != MTASK_OK)
        return 22;
    return 0;
}

int main(void) {
    static MTASK_QUEUE_STORAGE(storage, 4, sizeof(struct job));
    int failed = use_jobs();
    failed = failed != 0 ? failed : use_pointers();
    failed = failed != 0 ? failed : use_others();
    if (failed != 0)
        printf("check %d failed\n", failed);
    return failed != 0 || sizeof storage != MTASK_QUEUE_STORAGE_SIZE(4, sizeof(struct job));
}
END
cp "$OUT/use.c" "$OUT/use.cpp"

# The implementation alone, as C.
printf '#define MTASK_IMPLEMENTATION\n#include "mtask_queue.h"\n' >"$OUT/impl.c"
gcc -std=c11 -O2 -pthread -I. -c -o "$OUT/impl.o" "$OUT/impl.c"

# run NAME PROGRAM COMMAND...: the command must make the program, and that must succeed.
run() {
    local name=$1 program=$2
    shift 2
    try "$name" "$@" -pthread -o "$program" && try "$name: run" "$program"
}

# ---- all sorts of items, in C and in C++ ----

# use_types COMPILER STANDARD SOURCE
use_types() {
    # shellcheck disable=SC2086 # a list of words
    run "all types: $1 -std=$2" "$OUT/types-$1-$2" "$1" -std="$2" $WARN -O2 -I. "$OUT/$3" \
        "$OUT/impl.o"
}

for std in c11 gnu17; do
    use_types gcc $std use.c
    use_types clang $std use.c
done
for std in c++11 c++14 c++17 c++20; do
    use_types g++ $std use.cpp
    use_types clang++ $std use.cpp
done
for cxx in "g++ -std=c++11" "g++ -std=c++20" "clang++ -std=c++11" "clang++ -std=c++20"; do
    # shellcheck disable=SC2086 # lists of words
    run "implementation: $cxx" "$OUT/plain-c++" $cxx -x c++ $WARN -O2 -I. -I"$OUT" "$OUT/plain.c"
done

# ---- with stb_ds, without, and beside a program's own ----

for cc in gcc clang; do
    for option in "" -DMTASK_NO_STB_DS -DMTASK_FORCE_POSIX; do
        # shellcheck disable=SC2086 # lists of words
        run "$cc $option" "$OUT/plain-$cc$option" $cc -std=c11 $WARN $option -O2 -I. -I"$OUT" \
            "$OUT/plain.c"
    done
done

# own_stb NAME OTHER...: the program $OUT/NAME.c, which includes stb_ds itself.
own_stb() {
    for cc in gcc clang; do
        run "own stb_ds: $1, $cc" "$OUT/$1-$cc" $cc -std=c11 -D_GNU_SOURCE -O2 -I. -I"$OUT" \
            -I/usr/include/stb "$OUT/$1.c" "${@:2}"
    done
}

# write FILE LINE...: a file of these lines.
write() {
    local file=$OUT/$1
    shift
    printf '%s\n' "$@" >"$file"
}

include_mtask='#include "mtask_queue.h"'
include_stb='#include "stb_ds.h"'
define_mtask='#define MTASK_IMPLEMENTATION'
define_stb='#define STB_DS_IMPLEMENTATION'
use_stb='#include "use.h"
int main(void) {
    int *array = NULL;
    struct { char *key; int value; } *map = NULL;
    for (int i = 0; i < 100; i++)
        arrput(array, i);
    shput(map, "seven", 7);
    if (arrlen(array) != 100 || array[99] != 99 || shget(map, "seven") != 7)
        return 1;
    arrfree(array);
    shfree(map);
    return fill(MTASK_UNBOUNDED) == MTASK_OK ? 0 : 2;
}'

write first.c "$define_stb" "$include_stb" "$define_mtask" "$include_mtask" "$use_stb"
own_stb first
write last.c "$define_mtask" "$include_mtask" "$define_stb" "$include_stb" "$use_stb"
own_stb last
write around.c "$define_stb" "$define_mtask" "$include_mtask" "$include_stb" "$use_stb"
own_stb around
write stb.c "$define_stb" "$include_stb"
write elsewhere.c "$define_mtask" "$include_mtask" "$include_stb" "$use_stb"
own_stb elsewhere "$OUT/stb.c"
write apart.c "$include_stb" "$use_stb"
own_stb apart "$OUT/stb.c" "$OUT/impl.o"

# ---- implementations in several files ----

write base.c "$define_mtask" '#include "mtask.h"'
write queue.c '#define MTASK_QUEUE_IMPLEMENTATION' "$include_mtask"
write main.c '#include "use.h"' 'int main(void) {' '    return fill(5000) != MTASK_OK;' '}'
for cc in "gcc -std=c11" "clang -std=c11" "gcc -std=c11 -DMTASK_DEBUG=1" \
    "g++ -std=c++11 -x c++" "clang++ -std=c++20 -x c++"; do
    # shellcheck disable=SC2086 # lists of words
    run "split implementation, $cc" "$OUT/split-${cc%% *}" $cc $WARN -O2 -I. -I"$OUT" \
        "$OUT/base.c" "$OUT/queue.c" "$OUT/main.c"
done

cat >"$OUT/static.c" <<'END'
#define MTASK_IMPLEMENTATION
#define MTASK_STATIC
#include "use.h"
mtask_status NAME(size_t capacity);
mtask_status NAME(size_t capacity) {
    return fill(capacity);
}
#ifdef MAIN
mtask_status other(size_t capacity);
int main(void) {
    return NAME(5000) == MTASK_OK && other(MTASK_UNBOUNDED) == MTASK_OK ? 0 : 1;
}
#endif
END
for cc in "gcc -std=c11" "clang -std=c11" "g++ -std=c++11 -x c++" "clang++ -std=c++17 -x c++"; do
    # shellcheck disable=SC2086 # lists of words
    try "static, second file, $cc" $cc $WARN -O2 -pthread -I. -I"$OUT" -DNAME=other -c \
        -o "$OUT/other.o" "$OUT/static.c" &&
        run "static, $cc" "$OUT/static-${cc%% *}" $cc $WARN -O2 -I. -I"$OUT" -DMAIN -DNAME=own \
            "$OUT/static.c" -x none "$OUT/other.o"
done

write many.c "$include_mtask" '#include "mtask.h"' "$define_mtask" '#include "mtask.h"' \
    "$include_mtask" "$include_mtask" '#undef MTASK_IMPLEMENTATION' "$include_mtask" \
    "$(cat "$OUT/main.c")"
for cc in gcc clang; do
    # The implementation after the declarations needs -D_GNU_SOURCE: stdint.h came before it.
    # shellcheck disable=SC2086 # a list of words
    run "many includes, $cc" "$OUT/many-$cc" $cc -std=c11 -D_GNU_SOURCE $WARN -I. -I"$OUT" \
        "$OUT/many.c"
done

# ---- the two headers alone in a directory, with the example of the top comment ----

mkdir -p "$OUT/alone"
cp mtask.h mtask_queue.h "$OUT/alone"
sed -n '/^   EXAMPLE (cc/,/^   WHAT HOLDS/p' mtask_queue.h | sed '1d;$d' >"$OUT/alone/example.c"

# alone COMPILER...: builds the example there, and looks at what it prints.
alone() {
    (cd "$OUT/alone" && "$@" -O2 -pthread -o example example.c &&
        [ "$(timeout 20 ./example | xargs)" = "1 4 9 16 25" ])
}

for cc in gcc clang; do
    for options in -Wextra -DMTASK_NO_STB_DS "-std=c11 -Wpedantic -Werror"; do
        # shellcheck disable=SC2086 # a list of words
        output=$(alone $cc $options 2>&1)
        count "the example in the top comment, $cc $options" $? "$cc $options" "$output"
    done
done

# Where there is no stb_ds.h, which __has_include finds out: as with MTASK_NO_STB_DS.
mkdir -p "$OUT/bare"
for file in /usr/include/*; do
    [ "$(basename "$file")" = stb ] || ln -sf "$file" "$OUT/bare"
done
for cc in gcc clang; do
    builtin=$($cc -print-file-name=include)
    machine=$($cc -print-multiarch 2>/dev/null)
    # shellcheck disable=SC2086 # a list of words
    run "no stb_ds on this system, $cc" "$OUT/bare-$cc" $cc -std=c11 $WARN -O2 -nostdinc \
        -isystem "$builtin" -isystem "$OUT/bare/${machine:-x86_64-linux-gnu}" \
        -isystem "$OUT/bare" -DUNBOUNDED=MTASK_UNSUPPORTED -I. -I"$OUT" "$OUT/plain.c"
done
finish
