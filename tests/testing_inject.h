/* testing_inject.h - calls that fail when a test says so

   Include it after an enum `point` of the places where calls can fail, whose last value is POINTS.
   The replaced calls ask fails_at. Any thread may ask; one at a time arms. */
#ifndef MTASK_TESTING_INJECT_H
#define MTASK_TESTING_INJECT_H

#include <limits.h>
#include <stdbool.h>

typedef struct injection {
    long calls; /* since it was armed */
    long first; /* the first call to fail, from 1; 0: none */
    long last;  /* the last one */
    long hits;  /* how many failed */
    int error;
} injection;

static injection injections[POINTS];

static inline long look(const long *counter) {
    return __atomic_load_n(counter, __ATOMIC_SEQ_CST);
}

static inline void add(long *counter, long n) {
    __atomic_add_fetch(counter, n, __ATOMIC_SEQ_CST);
}

/* Whether this call at `at` has to fail. */
static inline bool fails_at(point at) {
    injection *here = &injections[at];
    long first = look(&here->first), call;
    if (first == 0)
        return false;
    call = __atomic_add_fetch(&here->calls, 1, __ATOMIC_SEQ_CST);
    if (call < first || call > look(&here->last))
        return false;
    add(&here->hits, 1);
    return true;
}

/* From the `first` call from now on, `number` calls at `at` will fail with `error`. */
static inline void arm(point at, long first, long number, int error) {
    injection *here = &injections[at];
    __atomic_store_n(&here->first, 0, __ATOMIC_SEQ_CST);
    __atomic_store_n(&here->calls, 0, __ATOMIC_SEQ_CST);
    __atomic_store_n(&here->hits, 0, __ATOMIC_SEQ_CST);
    __atomic_store_n(&here->error, error, __ATOMIC_SEQ_CST);
    __atomic_store_n(&here->last, number > LONG_MAX - first ? LONG_MAX : first + number - 1,
                     __ATOMIC_SEQ_CST);
    __atomic_store_n(&here->first, first, __ATOMIC_SEQ_CST);
}

/* No more failures; how many there were. */
static inline long disarm(point at) {
    __atomic_store_n(&injections[at].first, 0, __ATOMIC_SEQ_CST);
    return look(&injections[at].hits);
}

/* With what a call that fails fails. */
static inline int error_at(point at) {
    return __atomic_load_n(&injections[at].error, __ATOMIC_SEQ_CST);
}

#endif
