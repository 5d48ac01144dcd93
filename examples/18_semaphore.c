// mkdir -p build && cc -O2 -pthread -I. -o build/18_semaphore examples/18_semaphore.c
//
// A car park with five places and a hundred cars, each of which stays for five seconds: a semaphore
// lets in five at a time. Each car says its name. The semaphore is a bounded one: to give back more
// than was taken is refused.
//
// Output (patterns):
//   ^Thread-[0-9]+$
//   ^inside at the same time, at most: 5$
//   ^one release too many: MTASK_OVERFLOW$
#define MTASK_IMPLEMENTATION
#include "mtask.h"
#include "common.h"

enum { PLACES = 5, CARS = 100 };

static mtask_sem semaphore;
static mtask_mutex lock;
static int inside, most; /* guarded by the lock */

static void count(int n) {
    MUST(mtask_mutex_lock(&lock));
    inside += n;
    most = inside > most ? inside : most;
    MUST(mtask_mutex_unlock(&lock));
}

static void *park(void *arg) {
    (void)arg;
    MUST(mtask_sem_acquire(&semaphore, MTASK_FOREVER));
    count(1);
    printf("%s\n", mtask_thread_current().name);
    MUST(mtask_sleep(seconds(5)));
    count(-1);
    MUST(mtask_sem_release(&semaphore, 1));
    return NULL;
}

int main(void) {
    mtask_thread cars[CARS] = {0};
    MUST(mtask_sem_init(&semaphore, PLACES, PLACES, MTASK_PRIVATE));
    for (int i = 0; i < CARS; i++)
        MUST(mtask_thread_start(&cars[i], park, NULL));
    for (int i = 0; i < CARS; i++)
        MUST(mtask_thread_join(&cars[i], NULL, MTASK_FOREVER));
    printf("inside at the same time, at most: %d\n", most);
    printf("one release too many: %s\n", mtask_status_name(mtask_sem_release(&semaphore, 1)));
    return 0;
}
