// mkdir -p build && cc -O2 -pthread -I. -o build/46_greenlet examples/46_greenlet.c
//
// Two functions that switch to each other wherever they like, as Python's greenlets do. Neither
// resumes the other: mtask_coro_transfer leaves the one and goes on in the other, and whoever
// resumed the first (here main) hears when the last of them returns.
//
// Output:
//   12
//   56
//   34
//   78
#define MTASK_IMPLEMENTATION
#include "mtask_coro.h"
#include "common.h"

static mtask_coro *gr1, *gr2;

static void *test1(void *arg) {
    printf("12\n");
    MUST(mtask_coro_transfer(gr2, NULL, NULL));
    printf("34\n");
    (void)mtask_coro_transfer(gr2, NULL, NULL); /* nobody comes back here but to close it */
    return arg;
}

static void *test2(void *arg) {
    printf("56\n");
    MUST(mtask_coro_transfer(gr1, NULL, NULL));
    printf("78\n");
    return arg;
}

int main(void) {
    MUST(mtask_coro_create(&gr1, test1, NULL));
    MUST(mtask_coro_create(&gr2, test2, NULL));
    if (mtask_coro_transfer(gr1, NULL, NULL) != MTASK_DONE) /* that test2 has returned */
        return 1;
    MUST(mtask_coro_close(gr1)); /* it is still in its second transfer, and returns now */
    MUST(mtask_coro_destroy(gr1));
    MUST(mtask_coro_destroy(gr2));
    return 0;
}
