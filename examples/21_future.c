// mkdir -p build && cc -O2 -pthread -I. -o build/21_future examples/21_future.c
//
// Results that are still to come. First from three threads, one of which fails: its error is that
// of one future, the others have their values. Then a promise, kept by hand: a thread waits for a
// value that main sets.
//
// Output:
//   the root of 144 is 12
//   no result: MTASK_INVALID, -4 has no root
//   the root of 256 is 16
//   the letter says: dear thread
#define MTASK_IMPLEMENTATION
#include "mtask.h"
#include "common.h"

static void *root(void *arg) {
    int n = *(int *)arg;
    intptr_t r = 0;
    MUST(mtask_sleep(seconds(1)));
    if (n < 0)
        return mtask_fail(MTASK_INVALID, "%d has no root", n);
    while (r * r < n)
        r++;
    return (void *)r;
}

static void print_result(int n, mtask_future *future) {
    mtask_outcome outcome;
    if (mtask_future_get(future, &outcome, MTASK_FOREVER) == MTASK_OK)
        printf("the root of %d is %d\n", n, (int)(intptr_t)outcome.value);
    else
        printf("no result: %s, %s\n", mtask_status_name(outcome.status), outcome.text);
    mtask_future_release(future);
}

static void *read_letter(void *arg) {
    mtask_outcome letter;
    MUST(mtask_future_get((mtask_future *)arg, &letter, MTASK_FOREVER));
    printf("the letter says: %s\n", (const char *)letter.value);
    return NULL;
}

int main(void) {
    int numbers[] = {144, -4, 256};
    char letter[] = "dear thread";
    mtask_future *futures[3], *promise;

    for (int i = 0; i < 3; i++) { /* without handles: the future is all we want of the thread */
        mtask_thread_desc desc = {.fn = root, .arg = &numbers[i], .future = &futures[i]};
        MUST(mtask_thread_start_ex(NULL, &desc));
    }
    MUST(mtask_futures_wait(futures, 3, MTASK_WAIT_ALL, MTASK_FOREVER));
    for (int i = 0; i < 3; i++)
        print_result(numbers[i], futures[i]);

    MUST(mtask_future_create(&promise, NULL));
    MUST(mtask_thread_spawn(read_letter, promise));
    MUST(mtask_future_set(promise, letter));
    MUST(mtask_thread_join_all(MTASK_FOREVER));
    mtask_future_release(promise);
    return 0;
}
