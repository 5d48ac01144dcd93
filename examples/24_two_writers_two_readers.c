// mkdir -p build && cc -O2 -pthread -I. -o build/24_two_writers_two_readers examples/24_two_writers_two_readers.c
//
// Two threads write three values each into one queue, two others read them; who reads which is left
// to chance. Readers cannot be stopped from outside: when all is written the queue is closed, they
// read what is left in it and end.
//
// Output (patterns):
//   ^Thread-[12]: put [14] into the queue\.\.\.$
//   ^Thread-[34]: got [14] from the queue$
//   ^value 1 was read once$
//   ^value 2 was read once$
//   ^value 3 was read once$
//   ^value 4 was read once$
//   ^value 5 was read once$
//   ^value 6 was read once$
#define MTASK_IMPLEMENTATION
#include "mtask_queue.h"
#include "common.h"

enum { VALUES = 6 };

MTASK_QUEUE_TYPE(numbers, int);

static numbers queue;
static mtask_word times_read[VALUES + 1];

static void *write_values(void *arg) {
    const int *data = (const int *)arg;
    unsigned random = (unsigned)data[0];
    for (int i = 0; i < VALUES / 2; i++) {
        printf("%s: put %d into the queue...\n", mtask_thread_current().name, data[i]);
        MUST(numbers_put(&queue, data[i], MTASK_FOREVER));
        MUST(mtask_sleep(seconds((double)rand_r(&random) / RAND_MAX)));
    }
    return NULL;
}

static void *read_values(void *arg) {
    int value;
    (void)arg;
    while (numbers_get(&queue, &value, MTASK_FOREVER) == MTASK_OK) {
        printf("%s: got %d from the queue\n", mtask_thread_current().name, value);
        mtask_word_add(&times_read[value], 1);
    }
    return NULL;
}

int main(void) {
    int data[2][VALUES / 2] = {{1, 2, 3}, {4, 5, 6}};
    mtask_thread writers[2] = {0}, readers[2] = {0};

    MUST(numbers_init(&queue, VALUES));
    for (int i = 0; i < 2; i++)
        MUST(mtask_thread_start(&writers[i], write_values, data[i]));
    for (int i = 0; i < 2; i++)
        MUST(mtask_thread_start(&readers[i], read_values, NULL));
    for (int i = 0; i < 2; i++)
        MUST(mtask_thread_join(&writers[i], NULL, MTASK_FOREVER));
    MUST(numbers_close(&queue));
    for (int i = 0; i < 2; i++)
        MUST(mtask_thread_join(&readers[i], NULL, MTASK_FOREVER));
    for (int value = 1; value <= VALUES; value++)
        printf("value %d was read %s\n", value,
               mtask_word_load(&times_read[value]) == 1 ? "once" : "NOT ONCE");
    MUST(numbers_deinit(&queue));
    return 0;
}
