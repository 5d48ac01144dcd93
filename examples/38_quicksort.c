// mkdir -p build && cc -O2 -pthread -I. -o build/38_quicksort examples/38_quicksort.c
//
// Quicksort by fork-join: `build/38_quicksort [HOW MANY [SEED]]`. A part is split in two; one half
// becomes a job, which an idle worker may take, the other half is sorted here. The job lies on the
// stack, and spawning it costs about as much as calling a function; so there is no need to count
// workers, or to guess how big the parts should be. Checked against the same with one thread, and
// against what a sorted array is.
//
// Output with 300000 1:
//   300000 numbers, seed 1
//   one thread: 0.021 s; a worker for each CPU: 0.011 s
//   the same: yes, in order: yes
#define MTASK_IMPLEMENTATION
#include "mtask_pool.h"
#include "common.h"
#include <string.h>

typedef struct Part {
    int *numbers;
    size_t count;
    int depth; /* how often it may be split; quicksort is slow if it splits badly too often */
    bool parallel;
} Part;

static int by_value(const void *a, const void *b) {
    return (*(const int *)a > *(const int *)b) - (*(const int *)a < *(const int *)b);
}

static int middle_of_three(int a, int b, int c) {
    int low = a < b ? a : b, high = a < b ? b : a;
    return c < low ? low : c > high ? high : c;
}

/* Moves small numbers to the left; returns how many, at least one and not all. */
static size_t split(int *numbers, size_t count) {
    int pivot = middle_of_three(numbers[0], numbers[count / 2 - 1], numbers[count - 2]);
    int *left = numbers, *right = numbers + count - 1;
    for (;; left++, right--) {
        while (*left < pivot)
            left++;
        while (*right > pivot)
            right--;
        if (left >= right)
            return (size_t)(right - numbers) + 1;
        int number = *left;
        *left = *right;
        *right = number;
    }
}

static void sort_few(int *numbers, size_t count) {
    for (size_t i = 1; i < count; i++) {
        int number = numbers[i];
        size_t at = i;
        for (; at > 0 && numbers[at - 1] > number; at--)
            numbers[at] = numbers[at - 1];
        numbers[at] = number;
    }
}

static void *sort(void *arg) {
    const Part *part = (const Part *)arg;
    mtask_job job;
    if (part->count <= 24) {
        sort_few(part->numbers, part->count);
        return NULL;
    }
    if (part->depth == 0) {
        qsort(part->numbers, part->count, sizeof *part->numbers, by_value);
        return NULL;
    }
    Part left = *part, right = *part;
    left.depth = right.depth = part->depth - 1;
    left.count = split(part->numbers, part->count);
    right.count -= left.count;
    right.numbers += left.count;
    if (part->parallel)
        MUST(mtask_job_spawn(&job, sort, &left));
    else
        sort(&left);
    sort(&right);
    if (part->parallel)
        MUST(mtask_job_sync(&job, NULL));
    return NULL;
}

/* Sorts with one thread, or in a worker of the default pool, which others help. */
static double timed_sort(int *numbers, size_t count, bool parallel) {
    Part all = {.numbers = numbers, .count = count, .depth = 64, .parallel = parallel};
    mtask_future *future;
    int64_t start = mtask_now();
    if (parallel) {
        MUST(mtask_pool_submit(NULL, sort, &all, &future));
        MUST(mtask_future_wait(future, MTASK_FOREVER));
        mtask_future_release(future);
    } else {
        sort(&all);
    }
    return (double)(mtask_now() - start) / 1e9;
}

int main(int argc, char **argv) {
    size_t count = argc > 1 ? strtoul(argv[1], NULL, 10) : 10000000;
    unsigned seed = argc > 2 ? (unsigned)strtoul(argv[2], NULL, 10) : (unsigned)mtask_now();
    int *one = (int *)calloc(count + 1, sizeof *one), *all = (int *)calloc(count + 1, sizeof *all);
    bool in_order = true;

    MUST(one != NULL && all != NULL ? MTASK_OK : MTASK_NOMEM);
    printf("%zu numbers, seed %u\n", count, seed);
    for (size_t i = 0; i < count; i++)
        one[i] = all[i] = rand_r(&seed);
    printf("one thread: %.3f s; ", timed_sort(one, count, false));
    printf("a worker for each CPU: %.3f s\n", timed_sort(all, count, true));
    for (size_t i = 1; i < count; i++)
        in_order = in_order && all[i - 1] <= all[i];
    bool same = memcmp(one, all, count * sizeof *one) == 0;
    printf("the same: %s, in order: %s\n", same ? "yes" : "no", in_order ? "yes" : "no");
    free(one);
    free(all);
    return !same || !in_order;
}
