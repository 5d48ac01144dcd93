// mkdir -p build && cc -O2 -pthread -I. -o build/23_baozi examples/23_baozi.c
//
// A cook makes ten baozi, a guest eats them; the queue between them is the steamer. Neither knows
// how fast the other is. The guest says of each when it is eaten (task_done); so the cook can wait
// until all are (join), and only then closes: that sends the guest home.
//
// Output (patterns):
//   ^making\.\.\.\.\.$
//   ^Producer A has produced baozi 0$
//   ^Consumer B has eaten baozi 0$
//   ^Consumer B has eaten baozi 1$
//   ^Consumer B has eaten baozi 2$
//   ^Consumer B has eaten baozi 3$
//   ^Consumer B has eaten baozi 4$
//   ^Consumer B has eaten baozi 5$
//   ^Consumer B has eaten baozi 6$
//   ^Consumer B has eaten baozi 7$
//   ^Consumer B has eaten baozi 8$
//   ^Consumer B has eaten baozi 9$
//   ^Producer A: all are eaten$
//   ^made 10, eaten 10$
#define MTASK_IMPLEMENTATION
#include "mtask_queue.h"
#include "common.h"

MTASK_QUEUE_TYPE(steamer, int);

static steamer baozi;
static int made, eaten; /* each belongs to one thread until that is joined */

static void *producer(void *arg) {
    const char *name = (const char *)arg;
    unsigned random = 6; /* for rand_r */
    for (; made < 10; made++) {
        printf("making.....\n");
        MUST(mtask_sleep(seconds(rand_r(&random) % 3)));
        printf("Producer %s has produced baozi %d\n", name, made);
        MUST(steamer_put(&baozi, made, MTASK_FOREVER));
    }
    MUST(steamer_join(&baozi, MTASK_FOREVER));
    printf("Producer %s: all are eaten\n", name);
    MUST(steamer_close(&baozi));
    return NULL;
}

static void *consumer(void *arg) {
    unsigned random = 3;
    for (;;) {
        int number;
        MUST(mtask_sleep(seconds(rand_r(&random) % 4)));
        if (steamer_is_empty(&baozi))
            printf("-----no baozi any more-----\n");
        if (steamer_get(&baozi, &number, MTASK_FOREVER) == MTASK_CLOSED)
            return NULL;
        printf("Consumer %s has eaten baozi %d\n", (const char *)arg, number);
        eaten++;
        MUST(steamer_task_done(&baozi));
    }
}

int main(void) {
    char a[] = "A", b[] = "B";
    mtask_thread threads[2] = {0};
    MUST(steamer_init(&baozi, MTASK_UNBOUNDED));
    MUST(mtask_thread_start(&threads[0], producer, a));
    MUST(mtask_thread_start(&threads[1], consumer, b));
    for (int i = 0; i < 2; i++)
        MUST(mtask_thread_join(&threads[i], NULL, MTASK_FOREVER));
    printf("made %d, eaten %d\n", made, eaten);
    MUST(steamer_deinit(&baozi));
    return 0;
}
