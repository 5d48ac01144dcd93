// mkdir -p build && cc -O2 -pthread -I. -o build/29_select examples/29_select.c
//
// Waiting for several queues at once, as Go's select does. First two queues of different types are
// read by one thread, until nothing has come for two seconds. Then a generator of Fibonacci numbers
// offers the next one and listens for the word to stop, whichever happens first.
//
// Output (in order by first word):
//   number: 1
//   number: 2
//   number: 3
//   number: no more
//   word: hello
//   word: world
//   nothing came for 2.0 s
//   fibonacci: 0 1 1 2 3 5 8 13 21 34
//   generator: quit
#define MTASK_IMPLEMENTATION
#include "mtask_queue.h"
#include "common.h"

MTASK_QUEUE_TYPE(numbers, int);
MTASK_QUEUE_TYPE(words, const char *);

static numbers ints;
static words texts;

static void *send_numbers(void *arg) {
    (void)arg;
    for (int n = 1; n <= 3; n++) {
        MUST(mtask_sleep(seconds(0.2)));
        MUST(numbers_put(&ints, n, MTASK_FOREVER));
    }
    MUST(numbers_close(&ints));
    return NULL;
}

static void *send_words(void *arg) {
    (void)arg;
    MUST(mtask_sleep(seconds(0.3)));
    MUST(words_put(&texts, "hello", MTASK_FOREVER));
    MUST(mtask_sleep(seconds(0.3)));
    MUST(words_put(&texts, "world", MTASK_FOREVER));
    return NULL;
}

static void read_both(void) {
    int number;
    const char *word;
    mtask_queue_case cases[] = {numbers_case_get(&ints, &number), words_case_get(&texts, &word)};
    size_t fired;

    for (;;) {
        int64_t start = mtask_now();
        mtask_status status = mtask_queue_select(cases, 2, &fired, seconds(2));
        if (status == MTASK_TIMEOUT) {
            printf("nothing came for %.1f s\n", seconds_since(start));
            return;
        }
        if (status == MTASK_CLOSED) {
            printf("%s: no more\n", fired == 0 ? "number" : "word");
            cases[fired].queue = NULL; /* this case will not happen again */
        } else if (fired == 0) {
            printf("number: %d\n", number);
        } else {
            printf("word: %s\n", word);
        }
    }
}

static void *generate(void *arg) {
    numbers *out = (numbers *)arg;
    int x = 0, y = 1;
    const char *word;
    size_t fired = 0;
    mtask_queue_case cases[] = {numbers_case_put(out, &x), words_case_get(&texts, &word)};

    while (fired == 0) {
        MUST(mtask_queue_select(cases, 2, &fired, MTASK_FOREVER));
        int sum = x + y;
        x = y;
        y = sum;
    }
    printf("generator: %s\n", word);
    return NULL;
}

int main(void) {
    numbers fibonacci;
    int n;

    MUST(numbers_init(&ints, 1));
    MUST(words_init(&texts, 1));
    MUST(mtask_thread_spawn(send_numbers, NULL));
    MUST(mtask_thread_spawn(send_words, NULL));
    read_both();

    MUST(numbers_init(&fibonacci, 1));
    MUST(mtask_thread_spawn(generate, &fibonacci));
    printf("fibonacci:");
    for (int i = 0; i < 10; i++) {
        MUST(numbers_get(&fibonacci, &n, MTASK_FOREVER));
        printf(" %d", n);
    }
    printf("\n");
    MUST(words_put(&texts, "quit", MTASK_FOREVER));

    MUST(mtask_thread_join_all(MTASK_FOREVER));
    MUST(numbers_deinit(&fibonacci));
    MUST(words_deinit(&texts));
    MUST(numbers_deinit(&ints));
    return 0;
}
