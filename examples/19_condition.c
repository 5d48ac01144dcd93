// mkdir -p build && cc -O2 -pthread -I. -o build/19_condition examples/19_condition.c
//
// A cook and a guest share a steamer with room for three baozi. The cook waits while it is full,
// the guest while it is empty; each tells the other, through the condition, that something changed.
//
// Output (in order by first word):
//   cook: baozi 1
//   cook: baozi 2
//   cook: baozi 3
//   cook: baozi 4
//   cook: baozi 5
//   cook: baozi 6
//   guest: baozi 1
//   guest: baozi 2
//   guest: baozi 3
//   guest: baozi 4
//   guest: baozi 5
//   guest: baozi 6
//   never more than 3 in the steamer
#define MTASK_IMPLEMENTATION
#include "mtask.h"
#include "common.h"

enum { ROOM = 3, BAOZI = 6 };

static mtask_mutex lock;
static mtask_cond changed;
static int made, eaten, most; /* guarded by the lock */

/* Counts one more in `*number` as soon as made - eaten is between the two. */
static void handle(const char *who, int *number, int at_least, int at_most) {
    mtask_status status;
    MTASK_GUARD(&lock);
    MTASK_COND_WAIT_FOR(status, &changed, &lock, MTASK_FOREVER,
                        made - eaten >= at_least && made - eaten <= at_most);
    MUST(status);
    ++*number;
    most = made - eaten > most ? made - eaten : most;
    printf("%s: baozi %d\n", who, *number);
    MUST(mtask_cond_notify_all(&changed));
}

static void *cook(void *arg) {
    (void)arg;
    for (int i = 0; i < BAOZI; i++)
        handle("cook", &made, 0, ROOM - 1);
    return NULL;
}

static void *guest(void *arg) {
    (void)arg;
    for (int i = 0; i < BAOZI; i++) {
        MUST(mtask_sleep(seconds(0.5)));
        handle("guest", &eaten, 1, ROOM);
    }
    return NULL;
}

int main(void) {
    mtask_thread threads[2] = {0};
    MUST(mtask_thread_start(&threads[0], cook, NULL));
    MUST(mtask_thread_start(&threads[1], guest, NULL));
    for (int i = 0; i < 2; i++)
        MUST(mtask_thread_join(&threads[i], NULL, MTASK_FOREVER));
    printf("never more than %d in the steamer\n", most);
    return 0;
}
