/* plugin.h - what tests/plugin_main.c and the plugin it loads (tests/plugin.c) agree on */
#ifndef MTASK_TESTS_PLUGIN_H
#define MTASK_TESTS_PLUGIN_H

#ifndef _GNU_SOURCE
# define _GNU_SOURCE 1
#endif
#include "../mtask.h"

/* Objects that lie in the program and are used by both. */
typedef struct plugin_shared {
    mtask_mutex lock;
    mtask_cond changed;
    mtask_event ready;   /* set by the plugin's thread when it has begun */
    mtask_event release; /* set by the program to let it go on */
    mtask_sem permits;
    mtask_rwlock rwlock;
    mtask_waitgroup group;
    mtask_future *future; /* the plugin's thread sets its value */
    long counter;
    uint64_t task_id; /* of the plugin's thread, as the plugin sees it */
} plugin_shared;

#define PLUGIN_ROUNDS 20000
#define PLUGIN_THREAD "plugged-in"

/* What the plugin offers, as dlsym finds it under PLUGIN_SYMBOL: its own copy of mtask at work. */
typedef struct plugin_api {
    mtask_status (*start)(plugin_shared *shared);
    mtask_status (*join)(mtask_outcome *outcome);
    uint64_t (*task_id)(void);
    size_t (*active_count)(void);
    void *(*count)(void *shared); /* a task: counts to PLUGIN_ROUNDS under the lock */
    void *(*fail)(void *unused);  /* a task that fails with MTASK_NOT_FOUND */
    const void *here;             /* an address in the plugin: it is another copy */
} plugin_api;

#define PLUGIN_SYMBOL "plugin_exported"

#endif /* MTASK_TESTS_PLUGIN_H */
