// mkdir -p build && cc -O2 -pthread -I. -o build/34_squares examples/34_squares.c
//
// Pool(5).map(f, [1, 2, 3]).
//
// Output:
//   [1, 4, 9]
#define MTASK_IMPLEMENTATION
#include "mtask_pool.h"
#include "common.h"

static void f(const void *in, void *out, void *ctx) {
    int x = *(const int *)in;
    *(int *)out = x * x;
    (void)ctx;
}

int main(void) {
    mtask_pool *pool;
    mtask_pool_desc desc = {.workers = 5};
    int x[] = {1, 2, 3}, y[3];
    mtask_map_desc map = {
        .fn = f, .count = 3, .in = x, .in_size = sizeof *x, .out = y, .out_size = sizeof *y};

    MUST(mtask_pool_create(&pool, &desc));
    MUST(mtask_pool_map(pool, &map, NULL));
    MUST(mtask_pool_destroy(pool));
    printf("[%d, %d, %d]\n", y[0], y[1], y[2]);
    return 0;
}
