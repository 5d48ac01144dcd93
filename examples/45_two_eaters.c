// mkdir -p build && cc -O2 -pthread -I. -o build/45_two_eaters examples/45_two_eaters.c
//
// One cook and two guests, who are generators: each eats what it is sent, and yields until the next
// baozi comes. Both run the same function, each on a stack of its own. When the kitchen closes, so
// does each guest's yield: what stands behind its loop is done in any case, as in Python's finally.
// (On a terminal, the producer is green.)
//
// Output:
//   --->ready to eat baozi...
//   --->ready to eat baozi...
//   [producer] is making baozi 0 and 1
//   [c1] is eating baozi 0
//   [c2] is eating baozi 1
//   [producer] is making baozi 2 and 3
//   [c1] is eating baozi 2
//   [c2] is eating baozi 3
//   [producer] is making baozi 4 and 5
//   [c1] is eating baozi 4
//   [c2] is eating baozi 5
//   [c1] pays for 3 baozi
//   [c2] pays for 3 baozi
#define MTASK_IMPLEMENTATION
#include "mtask_coro.h"
#include "common.h"
#include <unistd.h>

static void *consumer(void *name) {
    void *baozi;
    int eaten = 0;
    printf("--->ready to eat baozi...\n");
    for (; mtask_coro_yield(NULL, &baozi) == MTASK_OK; eaten++)
        printf("[%s] is eating baozi %d\n", (char *)name, *(int *)baozi);
    printf("[%s] pays for %d baozi\n", (char *)name, eaten);
    return NULL;
}

static void produce(mtask_coro *con, mtask_coro *con2) {
    bool color = isatty(STDOUT_FILENO) == 1;
    for (int n = 0; n < 6; n += 2) {
        int second = n + 1;
        MUST(mtask_sleep(seconds(1)));
        printf("%s[producer]%s is making baozi %d and %d\n", color ? "\033[32;1m" : "",
               color ? "\033[0m" : "", n, second);
        MUST(mtask_coro_resume(con, &n, NULL));
        MUST(mtask_coro_resume(con2, &second, NULL));
    }
}

int main(void) {
    char c1[] = "c1", c2[] = "c2";
    mtask_coro *con, *con2;
    MUST(mtask_coro_create(&con, consumer, c1));
    MUST(mtask_coro_create(&con2, consumer, c2));
    MUST(mtask_coro_resume(con, NULL, NULL)); /* as far as the first yield */
    MUST(mtask_coro_resume(con2, NULL, NULL));
    produce(con, con2);
    MUST(mtask_coro_close(con));
    MUST(mtask_coro_close(con2));
    MUST(mtask_coro_destroy(con));
    MUST(mtask_coro_destroy(con2));
    return 0;
}
