// mkdir -p build && cc -O2 -pthread -I. -o build/44_generator examples/44_generator.c
//
// A producer and a consumer that take turns, without a thread, a lock or a queue. The consumer is a
// generator: each mtask_coro_resume sends it a number (Python's send), and it goes on where it
// stands in mtask_coro_yield; its next yield brings the answer back. When the producer is done it
// closes the consumer: the pending yield says so, and the consumer ends.
//
// Output:
//   [PRODUCER] Producing 1...
//   [CONSUMER] Consuming 1...
//   [PRODUCER] Consumer return: 200 OK
//   [PRODUCER] Producing 2...
//   [CONSUMER] Consuming 2...
//   [PRODUCER] Consumer return: 200 OK
//   [PRODUCER] Producing 3...
//   [CONSUMER] Consuming 3...
//   [PRODUCER] Consumer return: 200 OK
//   [PRODUCER] Producing 4...
//   [CONSUMER] Consuming 4...
//   [PRODUCER] Consumer return: 200 OK
//   [PRODUCER] Producing 5...
//   [CONSUMER] Consuming 5...
//   [PRODUCER] Consumer return: 200 OK
#define MTASK_IMPLEMENTATION
#include "mtask_coro.h"
#include "common.h"

static void *consumer(void *arg) {
    char nothing[] = "", ok[] = "200 OK", *reply = nothing;
    void *n;
    (void)arg;
    while (mtask_coro_yield(reply, &n) == MTASK_OK) { /* MTASK_CANCELED: it is being closed */
        printf("[CONSUMER] Consuming %d...\n", *(int *)n);
        reply = ok;
    }
    return NULL;
}

static void produce(mtask_coro *c) {
    void *reply;
    MUST(mtask_coro_resume(c, NULL, NULL)); /* as far as its first yield */
    for (int n = 1; n <= 5; n++) {
        printf("[PRODUCER] Producing %d...\n", n);
        MUST(mtask_coro_resume(c, &n, &reply));
        printf("[PRODUCER] Consumer return: %s\n", (char *)reply);
    }
    MUST(mtask_coro_close(c));
}

int main(void) {
    mtask_coro *c;
    MUST(mtask_coro_create(&c, consumer, NULL));
    produce(c);
    MUST(mtask_coro_destroy(c));
    return 0;
}
