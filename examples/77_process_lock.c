// mkdir -p build && cc -O2 -pthread -I. -o build/77_process_lock examples/77_process_lock.c
//
// Ten processes print a line each, a letter at a time. A lock in shared memory keeps their lines
// whole. If one is killed while it holds the lock, the next one gets it, and is told: so that it can
// put in order what was left half done (here: end the line that was begun).
//
// Output (any order):
//   hello world 0
//   hello world 1
//   hello world 2
//   hello world 3
//   hello world 4
//   hello wo
//   hello world 6
//   hello world 7
//   hello world 8
//   hello world 9
//   killed: 1
#define MTASK_IMPLEMENTATION
#include "mtask_proc.h"
#include "common.h"
#include <signal.h>

enum { COUNT = 10, UNLUCKY = 5 };

static mtask_shared_mutex *lock;

static void print_slowly(const char *text, bool unlucky) {
    for (int i = 0; text[i] != '\0'; i++) {
        putchar(text[i]);
        fflush(stdout);
        MUST(mtask_sleep(seconds(0.01)));
        if (unlucky && i == 7)
            raise(SIGKILL);
    }
}

static void *f(void *arg) {
    char text[20];
    int i = (int)(intptr_t)arg;
    snprintf(text, sizeof text, "hello world %d\n", i);
    mtask_status status = mtask_shared_mutex_lock(lock);
    if (status == MTASK_OWNER_DEAD) {
        putchar('\n');
        MUST(mtask_shared_mutex_consistent(lock));
    } else {
        MUST(status);
    }
    print_slowly(text, i == UNLUCKY);
    MUST(mtask_shared_mutex_unlock(lock));
    return NULL;
}

int main(void) {
    mtask_shm memory;
    mtask_proc *processes[COUNT];
    int killed = 0;
    MUST(mtask_shm_create(&memory, NULL, sizeof *lock));
    lock = (mtask_shared_mutex *)memory.data;
    MUST(mtask_shared_mutex_init(lock));
    for (intptr_t i = 0; i < COUNT; i++)
        MUST(mtask_proc_start(&processes[i], f, (void *)i));
    for (int i = 0; i < COUNT; i++) {
        killed += mtask_proc_join(processes[i], NULL, MTASK_FOREVER) != MTASK_OK;
        MUST(mtask_proc_close(processes[i]));
    }
    if (mtask_shared_mutex_lock(lock) == MTASK_OWNER_DEAD) /* the unlucky one was the last */
        putchar('\n');
    printf("killed: %d\n", killed);
    MUST(mtask_shm_close(&memory));
    return 0;
}
