/* two_units_a.c - the first file of a program of two (config_units.sh): each runs a thread that
   adds to one counter under one lock, and both see the same threads, unless each has an
   implementation of its own (MTASK_STATIC) */
#include "../mtask.h"

#define ROUNDS 20000

#ifdef MTASK_STATIC
# define APART 1
#else
# define APART 0
#endif

extern mtask_mutex units_lock;
extern mtask_event units_release;
extern long units_counter;
void *units_work(void *arg);
mtask_status units_start(mtask_thread *thread, void *arg);
mtask_status units_join(mtask_thread *thread, mtask_outcome *outcome);
uint64_t units_task_id(void);
size_t units_active_count(void);

/* Runs a thread of each file; the number of the check that failed, or 0. */
static int both_files_count(void) {
    long rounds = ROUNDS;
    mtask_outcome outcome;
    mtask_thread here = {0}, there = {0};
    if (mtask_thread_start(&here, units_work, &rounds) != MTASK_OK)
        return 1;
    if (units_start(&there, &rounds) != MTASK_OK)
        return 2;
    if (!APART && (mtask_thread_active_count() != 3 || units_active_count() != 3))
        return 3; /* main and the two that wait for units_release */
    mtask_event_set(&units_release);
    if (mtask_thread_join(&here, &outcome, MTASK_FOREVER) != MTASK_OK || outcome.value != &rounds)
        return 4;
    if (units_join(&there, &outcome) != MTASK_OK || outcome.value != &rounds)
        return 5;
    if (units_counter != 2 * ROUNDS || mtask_mutex_is_locked(&units_lock))
        return 6;
    return 0;
}

int main(void) {
    int failed = both_files_count();
    if (failed != 0)
        return failed;
    if (mtask_task_id() == 0 || (mtask_task_id() == units_task_id()) == APART)
        return 7; /* a number belongs to one task, in one implementation */
    return 0;
}
