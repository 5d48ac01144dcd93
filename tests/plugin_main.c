/* plugin_main.c - loads a plugin that has a copy of mtask of its own (config_plugin.sh)

   usage: plugin_main PLUGIN together|plugins|apart [OTHER-PLUGIN]
   together: the program was linked with -rdynamic, so all copies share threads and tasks
   plugins:  it was not, but the plugins share them among themselves (gcc sees to it)
   apart:    each copy keeps house by itself
   In every case locks, conditions and futures work across, and nothing crashes, also when the
   plugin is closed. */
#define MTASK_IMPLEMENTATION
#include "plugin.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(condition)                                                                           \
 ((condition) ? (void)0 : (fprintf(stderr, "line %d: %s\n", __LINE__, #condition), exit(1)))

static plugin_shared shared;
static bool together;

static const plugin_api *load(const char *path, void **handle) {
    const plugin_api *api;
    *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (*handle == NULL) {
        fprintf(stderr, "%s\n", dlerror());
        exit(1);
    }
    api = (const plugin_api *)dlsym(*handle, PLUGIN_SYMBOL);
    CHECK(api != NULL);
    return api;
}

/* Whether the program sees a live thread of this name; its id if it does. */
static uint64_t find_thread(const char *name) {
    mtask_thread_info infos[16];
    size_t count = 0;
    CHECK(mtask_thread_enumerate(infos, 16, &count) == MTASK_OK && count <= 16);
    for (size_t i = 0; i < count; i++)
        if (strcmp(infos[i].name, name) == 0)
            return infos[i].id;
    return 0;
}

/* The plugin's thread stands at the release event: who sees it? */
static void look_at_threads(const plugin_api *api) {
    uint64_t mine = mtask_task_id();
    CHECK(mine != 0 && api->task_id() != 0);
    CHECK(shared.task_id != 0 && shared.task_id != mine && shared.task_id != api->task_id());
    if (!together)
        return;
    CHECK(api->task_id() == mine);
    CHECK(find_thread(PLUGIN_THREAD) == shared.task_id);
    CHECK(mtask_thread_active_count() == 2 && api->active_count() == 2);
}

/* The program's thread and the plugin's count together, and wait for each other in every way. */
static void work_together(const plugin_api *api) {
    mtask_status status;
    mtask_outcome outcome;
    CHECK(mtask_rwlock_lock_read(&shared.rwlock) == MTASK_OK);
    mtask_event_set(&shared.release);
    CHECK(mtask_sem_release(&shared.permits, 1) == MTASK_OK);
    CHECK(mtask_rwlock_unlock_read(&shared.rwlock) == MTASK_OK);
    for (int i = 0; i < PLUGIN_ROUNDS; i++) {
        MTASK_GUARD(&shared.lock);
        shared.counter++;
    }
    CHECK(mtask_mutex_lock(&shared.lock) == MTASK_OK);
    MTASK_COND_WAIT_FOR(status, &shared.changed, &shared.lock, MTASK_SEC(60),
                        shared.counter == 2 * PLUGIN_ROUNDS);
    CHECK(status == MTASK_OK && mtask_mutex_unlock(&shared.lock) == MTASK_OK);
    CHECK(mtask_future_get(shared.future, &outcome, MTASK_SEC(60)) == MTASK_OK);
    CHECK(outcome.value == &shared);
    CHECK(mtask_waitgroup_wait(&shared.group, MTASK_SEC(60)) == MTASK_OK);
    CHECK(api->join(&outcome) == MTASK_OK && outcome.value == &shared);
    CHECK(find_thread(PLUGIN_THREAD) == 0);
}

/* The program starts threads that run the plugin's functions. */
static void run_plugin_functions(const plugin_api *api) {
    mtask_thread thread = {0};
    mtask_outcome outcome;
    shared.counter = 0;
    CHECK(mtask_thread_start(&thread, api->count, &shared) == MTASK_OK);
    CHECK(mtask_thread_join(&thread, &outcome, MTASK_SEC(60)) == MTASK_OK);
    CHECK(outcome.value == &shared && shared.counter == PLUGIN_ROUNDS);
    if (!together)
        return; /* a failure belongs to the copy whose mtask_fail made it */
    CHECK(mtask_thread_start(&thread, api->fail, NULL) == MTASK_OK);
    CHECK(mtask_thread_join(&thread, &outcome, MTASK_SEC(60)) == MTASK_FAILED);
    CHECK(outcome.status == MTASK_NOT_FOUND && strcmp(outcome.text, "not in this plugin") == 0);
}

static mtask_event unload_now, unloaded;

/* A thread that was known to the plugin ends after the plugin was closed. */
static void *outlive(void *arg) {
    const plugin_api *api = (const plugin_api *)arg;
    uint64_t id = api->task_id();
    mtask_event_set(&unload_now);
    (void)mtask_event_wait(&unloaded, MTASK_SEC(60));
    return id != 0 ? &unloaded : NULL;
}

static void close_plugin(const plugin_api *api, void *handle) {
    mtask_thread thread = {0};
    mtask_outcome outcome;
    CHECK(mtask_thread_start(&thread, outlive, (void *)(uintptr_t)api) == MTASK_OK);
    CHECK(mtask_event_wait(&unload_now, MTASK_SEC(60)) == MTASK_OK);
    CHECK(dlclose(handle) == 0);
    mtask_event_set(&unloaded);
    CHECK(mtask_thread_join(&thread, &outcome, MTASK_SEC(60)) == MTASK_OK);
    CHECK(outcome.value == &unloaded);
    CHECK(mtask_thread_active_count() == 1);
}

int main(int argc, char **argv) {
    void *handle, *other_handle;
    const plugin_api *api, *other;
    CHECK(argc >= 3);
    together = strcmp(argv[2], "together") == 0;
    api = load(argv[1], &handle);
    if (argc > 3) {
        other = load(argv[3], &other_handle);
        CHECK(other->here != api->here);
        CHECK((other->task_id() == api->task_id()) == (strcmp(argv[2], "apart") != 0));
    }
    CHECK(mtask_future_create(&shared.future, NULL) == MTASK_OK);
    CHECK(mtask_waitgroup_add(&shared.group, 1) == MTASK_OK);
    CHECK(api->start(&shared) == MTASK_OK);
    CHECK(mtask_event_wait(&shared.ready, MTASK_SEC(60)) == MTASK_OK);
    look_at_threads(api);
    work_together(api);
    run_plugin_functions(api);
    mtask_future_release(shared.future);
    close_plugin(api, handle);
    return 0;
}
