/* turns.h - two threads that answer each other by a word: what handing anything over takes at least

   For benchmarks that have mtask.h. Those that spin hand a cache line over and back, which is the
   limit; those that sleep are woken, too. */
#ifndef MTASK_BENCH_TURNS_H
#define MTASK_BENCH_TURNS_H

#include <stdlib.h>

#define TURNS 20000

static mtask_word turn;

static void take_turns(mtask_word mine, bool sleep) {
    for (int i = 0; i < TURNS; i++) {
        while (mtask_word_load(&turn) != mine)
            if (sleep)
                mtask_word_wait(&turn, 1 - mine, MTASK_FOREVER, 0);
        mtask_word_store(&turn, 1 - mine);
        if (sleep)
            mtask_word_wake(&turn, 1, 0);
    }
}

static void *answer_turns(void *sleep) {
    take_turns(1, *(bool *)sleep);
    return NULL;
}

/* us for a turn of each. */
static double turns(bool sleep) {
    mtask_thread thread = {0};
    turn = 0;
    if (mtask_thread_start(&thread, answer_turns, &sleep) != MTASK_OK)
        exit(1);
    double start = bench_now_ns();
    take_turns(0, sleep);
    double lasted = bench_now_ns() - start;
    if (mtask_thread_join(&thread, NULL, MTASK_FOREVER) != MTASK_OK)
        exit(1);
    return lasted / TURNS / 1000;
}

#endif
