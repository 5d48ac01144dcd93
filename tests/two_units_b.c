/* two_units_b.c - the second file of the program of two_units_a.c */
#include "../mtask.h"

mtask_mutex units_lock;
mtask_event units_release;
long units_counter;
void *units_work(void *arg);
mtask_status units_start(mtask_thread *thread, void *arg);
mtask_status units_join(mtask_thread *thread, mtask_outcome *outcome);
uint64_t units_task_id(void);
size_t units_active_count(void);

void *units_work(void *arg) {
    long rounds = *(long *)arg;
    if (mtask_event_wait(&units_release, MTASK_SEC(60)) != MTASK_OK)
        return mtask_fail(MTASK_TIMEOUT, "nobody set the event");
    for (long i = 0; i < rounds; i++) {
        MTASK_GUARD(&units_lock);
        units_counter++;
    }
    return arg;
}

mtask_status units_start(mtask_thread *thread, void *arg) {
    return mtask_thread_start(thread, units_work, arg);
}

mtask_status units_join(mtask_thread *thread, mtask_outcome *outcome) {
    return mtask_thread_join(thread, outcome, MTASK_FOREVER);
}

uint64_t units_task_id(void) {
    return mtask_task_id();
}

size_t units_active_count(void) {
    return mtask_thread_active_count();
}
