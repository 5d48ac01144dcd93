// mkdir -p build && cc -O2 -pthread -I. -o build/09_balance examples/09_balance.c
//
// Two threads put money into an account and take it out again, 100,000 times: the balance must stay
// 0. Under a lock it does. Without one it drifts, because one thread writes over what the other has
// just written.
//
// Output (patterns):
//   ^with the lock: 0$
//   ^without the lock: -?[1-9][0-9]*$
#define MTASK_IMPLEMENTATION
#include "mtask.h"
#include "common.h"
#include <sched.h>

static mtask_word balance; /* read and written atomically, but not added to atomically */
static mtask_mutex lock;
static bool use_lock;

static void add(int n, bool yield) {
    mtask_word seen = mtask_word_load(&balance);
    if (yield) /* now and then; the drift would show on one core, too */
        sched_yield();
    mtask_word_store(&balance, seen + (mtask_word)n);
}

static void change_it(int n, bool yield) {
    add(n, yield);
    add(-n, yield);
}

static void *run_thread(void *arg) {
    for (int i = 0; i < 100000; i++) {
        if (use_lock)
            MUST(mtask_mutex_lock(&lock));
        change_it(*(int *)arg, i % 1000 == 0);
        if (use_lock)
            MUST(mtask_mutex_unlock(&lock));
    }
    return NULL;
}

static int run(bool locked) {
    mtask_thread threads[2] = {0};
    int amounts[2] = {5, 8};
    mtask_word_store(&balance, 0);
    use_lock = locked;
    for (int i = 0; i < 2; i++)
        MUST(mtask_thread_start(&threads[i], run_thread, &amounts[i]));
    for (int i = 0; i < 2; i++)
        MUST(mtask_thread_join(&threads[i], NULL, MTASK_FOREVER));
    return (int)mtask_word_load(&balance);
}

int main(void) {
    int drift = 0;
    printf("with the lock: %d\n", run(true));
    for (int tries = 0; tries < 100 && drift == 0; tries++) /* by luck, 0 can come out once */
        drift = run(false);
    printf("without the lock: %d\n", drift);
    return 0;
}
