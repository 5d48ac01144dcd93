// mkdir -p build && cc -O2 -pthread -I. -o build/79_ping_pong examples/79_ping_pong.c
//
// Two processes print until a global counter reaches ten. Each has its own copy of the counter: so
// there are ten lines of each, not ten in all, and the parent's counter stays 0.
//
// Output (any order):
//   Ping
//   Ping
//   Ping
//   Ping
//   Ping
//   Ping
//   Ping
//   Ping
//   Ping
//   Ping
//   Pong
//   Pong
//   Pong
//   Pong
//   Pong
//   Pong
//   Pong
//   Pong
//   Pong
//   Pong
//   counter: 0
#define MTASK_IMPLEMENTATION
#include "mtask_proc.h"
#include "common.h"

static int counter;

static void *sub_task(void *string) {
    while (counter < 10) {
        puts((const char *)string);
        fflush(stdout);
        counter++;
        MUST(mtask_sleep(seconds(0.01)));
    }
    return NULL;
}

int main(void) {
    mtask_proc *ping, *pong;
    MUST(mtask_proc_start(&ping, sub_task, (void *)"Ping"));
    MUST(mtask_proc_start(&pong, sub_task, (void *)"Pong"));
    mtask_proc_release(ping); /* nobody asks how they end, */
    mtask_proc_release(pong);
    MUST(mtask_proc_join_all(MTASK_FOREVER)); /* but they are waited for */
    printf("counter: %d\n", counter);
    return 0;
}
