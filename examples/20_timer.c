// mkdir -p build && cc -O2 -pthread -I. -o build/20_timer examples/20_timer.c
//
// Functions that run later: three timers, of which one is cancelled in time. Cancelling tells
// whether it was in time. join_all waits until every timer has fired.
//
// Output:
//   waiting
//   cancel the alarm: MTASK_OK
//   hello, after 1.0 s
//   good bye, after 2.0 s
//   cancel the first: MTASK_DONE
#define MTASK_IMPLEMENTATION
#include "mtask.h"
#include "common.h"

static int64_t began;

static void *say(void *arg) {
    printf("%s, after %.1f s\n", (const char *)arg, seconds_since(began));
    return NULL;
}

int main(void) {
    char hello[] = "hello", alarm[] = "alarm", good_bye[] = "good bye";
    mtask_timer first = {0}, second = {0}, third = {0};

    began = mtask_now();
    MUST(mtask_timer_start(&third, seconds(2), say, good_bye));
    MUST(mtask_timer_start(&first, seconds(1), say, hello));
    MUST(mtask_timer_start(&second, seconds(1.5), say, alarm));
    printf("waiting\n");
    mtask_status status = mtask_timer_cancel(&second, MTASK_FOREVER);
    printf("cancel the alarm: %s\n", mtask_status_name(status));
    MUST(mtask_thread_join_all(MTASK_FOREVER));
    status = mtask_timer_cancel(&first, MTASK_FOREVER);
    printf("cancel the first: %s\n", mtask_status_name(status));
    return 0;
}
