/* testing_pool.h - what several tests of mtask_pool.h have in common */
#ifndef MTASK_TESTING_POOL_H
#define MTASK_TESTING_POOL_H

#include "testing_threads.h"

#include "../mtask_pool.h"

static TESTING_UNUSED mtask_pool *open_pool(unsigned workers) {
    mtask_pool_desc desc = {0};
    mtask_pool *pool = NULL;
    desc.workers = workers;
    ck_assert_status(mtask_pool_create(&pool, &desc), MTASK_OK);
    return pool;
}

static TESTING_UNUSED void end_pool(mtask_pool *pool) {
    ck_assert_status(mtask_pool_destroy(pool), MTASK_OK);
}

/* Runs fn(arg) as a task of the pool. */
static TESTING_UNUSED void run_task(mtask_pool *pool, mtask_fn fn, void *arg) {
    mtask_future *future;
    ck_assert_status(mtask_pool_submit(pool, fn, arg, &future), MTASK_OK);
    ck_assert_status(mtask_future_get(future, NULL, MTASK_FOREVER), MTASK_OK);
    mtask_future_release(future);
}

/* Returns when the word holds at least `value`. */
static TESTING_UNUSED void await_word(const mtask_word *word, mtask_word value) {
    for (long turn = 0; mtask_word_load(word) < value; turn++) {
        if (turn < 1000)
            sched_yield();
        else
            testing_pause(1);
    }
}

#endif
