// mkdir -p build && cc -O2 -pthread -I. -o build/29_select examples/29_select.c
//
// Waiting for several queues at once, as Go's select does. First one thread reads two queues of
// different types, until both are closed; when nothing has come for two seconds, it asks for more.
// Then a generator of Fibonacci numbers offers the next one and listens for a command, whichever
// happens first.
//
// Output (in order by first word):
//   number: 1
//   number: 2
//   number: 3
//   number: no more
//   nothing came for 2.0 s: now the words, please
//   word: hello
//   word: world
//   word: no more
//   fibonacci: 0 1 1 2 3 5 8 13 21 34
//   generator: quit
#define MTASK_IMPLEMENTATION
#include "mtask_queue.h"
#include "common.h"

MTASK_QUEUE_TYPE(numbers, int);
MTASK_QUEUE_TYPE(words, const char *);

static numbers counted, fibonacci;
static words said, commands;

static void *send_numbers(void *arg) {
    (void)arg;
    for (int n = 1; n <= 3; n++) {
        MUST(mtask_sleep(seconds(0.2)));
        MUST(numbers_put(&counted, n, MTASK_FOREVER));
    }
    MUST(numbers_close(&counted));
    return NULL;
}

static void *send_words(void *arg) {
    (void)arg;
    MUST(words_put(&said, "hello", MTASK_FOREVER));
    MUST(words_put(&said, "world", MTASK_FOREVER));
    MUST(words_close(&said));
    return NULL;
}

static void read_both(void) {
    int number;
    const char *word;
    mtask_queue_case cases[] = {numbers_case_get(&counted, &number), words_case_get(&said, &word)};
    int64_t patience = seconds(2);

    for (int open = 2; open > 0;) {
        size_t fired;
        int64_t start = mtask_now();
        mtask_status status = mtask_queue_select(cases, 2, &fired, patience);
        if (status == MTASK_TIMEOUT) {
            printf("nothing came for %.1f s: now the words, please\n", seconds_since(start));
            MUST(mtask_thread_spawn(send_words, NULL));
            patience = MTASK_FOREVER;
        } else if (status == MTASK_CLOSED) {
            printf("%s: no more\n", fired == 0 ? "number" : "word");
            cases[fired].queue = NULL; /* this case will not happen again */
            open--;
        } else if (fired == 0) {
            printf("number: %d\n", number);
        } else {
            printf("word: %s\n", word);
        }
    }
}

static void *generate(void *arg) {
    int x = 0, y = 1;
    const char *command;
    mtask_queue_case cases[] = {numbers_case_put(&fibonacci, &x),
                                words_case_get(&commands, &command)};
    size_t fired = 0;

    (void)arg;
    while (fired == 0) {
        MUST(mtask_queue_select(cases, 2, &fired, MTASK_FOREVER));
        int sum = x + y;
        x = y;
        y = sum;
    }
    printf("generator: %s\n", command);
    return NULL;
}

static void use_generator(void) {
    int n;
    MUST(mtask_thread_spawn(generate, NULL));
    printf("fibonacci:");
    for (int i = 0; i < 10; i++) {
        MUST(numbers_get(&fibonacci, &n, MTASK_FOREVER));
        printf(" %d", n);
    }
    printf("\n");
    MUST(words_put(&commands, "quit", MTASK_FOREVER));
}

int main(void) {
    MUST(numbers_init(&counted, 1));
    MUST(words_init(&said, 1));
    MUST(mtask_thread_spawn(send_numbers, NULL));
    read_both();

    MUST(numbers_init(&fibonacci, 1));
    MUST(words_init(&commands, 1));
    use_generator();

    MUST(mtask_thread_join_all(MTASK_FOREVER));
    MUST(words_deinit(&commands));
    MUST(numbers_deinit(&fibonacci));
    MUST(words_deinit(&said));
    MUST(numbers_deinit(&counted));
    return 0;
}
