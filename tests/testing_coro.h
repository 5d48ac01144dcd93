/* testing_coro.h - coroutines and loops, for the tests of mtask_coro.h; numbers are their items */
#ifndef MTASK_TESTING_CORO_H
#define MTASK_TESTING_CORO_H

#include "testing_threads.h"

#include "../mtask_coro.h"

static TESTING_UNUSED mtask_coro *open_coro(mtask_fn fn, void *arg) {
    mtask_coro *coro = NULL;
    ck_assert_status(mtask_coro_create(&coro, fn, arg), MTASK_OK);
    testing_check(coro != NULL);
    return coro;
}

/* Destroys a coroutine that never ran or has ended. */
static TESTING_UNUSED void end_coro(mtask_coro *coro) {
    ck_assert_status(mtask_coro_destroy(coro), MTASK_OK);
}

/* Resumes the coroutine with `in`, fails the test unless that gives `expected`; what came out. */
static TESTING_UNUSED long resume_for(mtask_coro *coro, long in, mtask_status expected) {
    mtask_coro *here = mtask_coro_current();
    void *out = (void *)-1;
    ck_assert_status(mtask_coro_resume(coro, (void *)in, &out), expected);
    testing_check(mtask_coro_current() == here);
    return (long)out;
}

/* Yields `out` from a coroutine that is not being closed; what it was resumed with. */
static TESTING_UNUSED long yield_long(long out) {
    void *in = (void *)-1;
    ck_assert_status(mtask_coro_yield((void *)out, &in), MTASK_OK);
    return (long)in;
}

/* A generator of 1 .. to, which then returns to + 1; if it is closed it returns -1. */
static TESTING_UNUSED void *count_to(void *to) {
    long i;
    for (i = 1; i <= (long)to; i++)
        if (mtask_coro_yield((void *)i, NULL) != MTASK_OK)
            return (void *)-1;
    return (void *)i;
}

#ifndef MTASK_CORO_NO_LOOP
/* Runs fn(arg) as the first task of a new loop, which must succeed; what it returned. */
static TESTING_UNUSED void *in_loop(mtask_fn fn, void *arg) {
    mtask_outcome outcome = {.status = MTASK_INVALID};
    ck_assert_status(mtask_loop_run(fn, arg, &outcome), MTASK_OK);
    ck_assert_status(outcome.status, MTASK_OK);
    return outcome.value;
}

/* Starts fn(arg) as a task of the calling thread's loop; its future. */
static TESTING_UNUSED mtask_future *go(mtask_fn fn, void *arg) {
    mtask_future *future = NULL;
    ck_assert_status(mtask_go(fn, arg, &future), MTASK_OK);
    testing_check(future != NULL);
    return future;
}

/* Waits for a task, which must succeed, and gives its future back; what it returned. */
static TESTING_UNUSED void *take(mtask_future *future) {
    mtask_outcome outcome = {.status = MTASK_INVALID};
    ck_assert_status(mtask_future_get(future, &outcome, MTASK_FOREVER), MTASK_OK);
    mtask_future_release(future);
    return outcome.value;
}

/* Lets every other task that is ready take its turn. */
static TESTING_UNUSED void take_turns(void) {
    ck_assert_status(mtask_yield(), MTASK_OK);
}
#endif

#endif
