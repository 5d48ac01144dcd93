// mkdir -p build && cc -O2 -pthread -I. -o build/84_process_squares examples/84_process_squares.c
//
// Pool(5).map(f, [1, 2, 3]), in processes.
//
// Output:
//   [1, 4, 9]
#define MTASK_IMPLEMENTATION
#include "mtask_proc.h"
#include "common.h"

static mtask_status f(const void *in, size_t size, mtask_buf *out) {
    int x = *(const int *)in, y = x * x;
    (void)size;
    return mtask_buf_append(out, &y, sizeof y);
}

int main(void) {
    mtask_procpool *pool;
    mtask_procpool_desc desc = {.workers = 5};
    int x[] = {1, 2, 3}, y[3];
    mtask_procmap_desc map = {
        .fn = f, .count = 3, .in = x, .in_size = sizeof *x, .out = y, .out_size = sizeof *y};

    MUST(mtask_procpool_create(&pool, &desc));
    MUST(mtask_procpool_map(pool, &map, NULL, MTASK_FOREVER));
    MUST(mtask_procpool_destroy(pool));
    printf("[%d, %d, %d]\n", y[0], y[1], y[2]);
    return 0;
}
