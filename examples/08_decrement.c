// mkdir -p build && cc -O2 -pthread -I. -o build/08_decrement examples/08_decrement.c
//
// A hundred threads each take one from a number that starts at 100, with a pause between reading
// and writing it. Without a lock most of that is lost, at any length of the pause: what is left
// depends on luck. With a lock it is always 0.
//
// Output (patterns):
//   ^without a lock, pause of 0.1 s: +[1-9][0-9]? left$
//   ^without a lock, pause of 0.001 s: +[0-9]+ left$
//   ^without a lock, pause of 1e-07 s: +[0-9]+ left$
//   ^with a lock, pause of 0.1 s: +0 left$
#define MTASK_IMPLEMENTATION
#include "mtask.h"
#include "common.h"

enum { THREADS = 100 };

static mtask_word number;
static mtask_mutex lock;

static void take_one(double pause) {
    mtask_word seen = mtask_word_load(&number);
    MUST(mtask_sleep(seconds(pause)));
    mtask_word_store(&number, seen - 1);
}

static void *sub(void *arg) {
    take_one(*(double *)arg);
    return NULL;
}

static void *sub_locked(void *arg) {
    MUST(mtask_mutex_lock(&lock));
    take_one(*(double *)arg);
    MUST(mtask_mutex_unlock(&lock));
    return NULL;
}

static unsigned run(mtask_fn fn, double pause) {
    mtask_thread threads[THREADS] = {0};
    mtask_word_store(&number, THREADS);
    for (int i = 0; i < THREADS; i++)
        MUST(mtask_thread_start(&threads[i], fn, &pause));
    for (int i = 0; i < THREADS; i++)
        MUST(mtask_thread_join(&threads[i], NULL, MTASK_FOREVER));
    return mtask_word_load(&number);
}

int main(void) {
    printf("without a lock, pause of 0.1 s:   %3u left\n", run(sub, 0.1));
    printf("without a lock, pause of 0.001 s: %3u left\n", run(sub, 0.001));
    printf("without a lock, pause of 1e-07 s: %3u left\n", run(sub, 1e-07));
    printf("with a lock, pause of 0.1 s:      %3u left\n", run(sub_locked, 0.1));
    return 0;
}
