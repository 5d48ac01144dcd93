/* plugin.c - a plugin with a copy of mtask of its own, loaded by plugin_main.c */
#define MTASK_IMPLEMENTATION
#include "plugin.h"

extern const plugin_api plugin_exported;
static mtask_thread plugin_thread;

static void *plugin_count(void *arg) {
    plugin_shared *shared = (plugin_shared *)arg;
    for (int i = 0; i < PLUGIN_ROUNDS; i++) {
        MTASK_GUARD(&shared->lock);
        shared->counter++;
    }
    MTASK_WITH(&shared->lock) {
        (void)mtask_cond_notify_all(&shared->changed);
    }
    return arg;
}

static void *plugin_fail(void *unused) {
    (void)unused;
    return mtask_fail(MTASK_NOT_FOUND, "not in this plugin");
}

/* Meets the program at every kind of object, then counts. */
static void *plugin_run(void *arg) {
    plugin_shared *shared = (plugin_shared *)arg;
    shared->task_id = mtask_task_id();
    mtask_event_set(&shared->ready);
    if (mtask_event_wait(&shared->release, MTASK_SEC(60)) != MTASK_OK)
        return mtask_fail(MTASK_TIMEOUT, "the program did not set the event");
    if (mtask_sem_acquire(&shared->permits, MTASK_SEC(60)) != MTASK_OK)
        return mtask_fail(MTASK_TIMEOUT, "the program gave no permit");
    if (mtask_rwlock_lock_write_for(&shared->rwlock, MTASK_SEC(60)) != MTASK_OK)
        return mtask_fail(MTASK_TIMEOUT, "the program kept the rwlock");
    (void)mtask_rwlock_unlock_write(&shared->rwlock);
    (void)plugin_count(arg);
    if (mtask_future_set(shared->future, shared) != MTASK_OK)
        return mtask_fail(MTASK_FAILED, "the future was set already");
    (void)mtask_waitgroup_done(&shared->group);
    return arg;
}

static mtask_status plugin_start(plugin_shared *shared) {
    mtask_thread_desc desc = {0};
    desc.fn = plugin_run;
    desc.arg = shared;
    desc.name = PLUGIN_THREAD;
    return mtask_thread_start_ex(&plugin_thread, &desc);
}

static mtask_status plugin_join(mtask_outcome *outcome) {
    return mtask_thread_join(&plugin_thread, outcome, MTASK_SEC(60));
}

const plugin_api plugin_exported = {
    plugin_start, plugin_join, mtask_task_id,  mtask_thread_active_count,
    plugin_count, plugin_fail, &plugin_thread,
};
