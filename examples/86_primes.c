// mkdir -p build && cc -O2 -pthread -I. -o build/86_primes examples/86_primes.c
//
// Six large numbers, and whether each is prime: a process for each CPU looks for divisors, and the
// answers come in the order of the numbers.
//
// Output:
//   112272535095293 is prime: True
//   112582705942171 is prime: True
//   112272535095293 is prime: True
//   115280095190773 is prime: True
//   115797848077099 is prime: True
//   1099726899285419 is prime: False
#define MTASK_IMPLEMENTATION
#include "mtask_proc.h"
#include "common.h"
#include <inttypes.h>

enum { COUNT = 6 };

static const uint64_t numbers[COUNT] = {112272535095293, 112582705942171, 112272535095293,
                                        115280095190773, 115797848077099, 1099726899285419};

static bool has_no_divisor(uint64_t n) {
    if (n < 2 || n % 2 == 0)
        return n == 2;
    for (uint64_t i = 3; i * i <= n; i += 2)
        if (n % i == 0)
            return false;
    return true;
}

static mtask_status is_prime(const void *in, size_t size, mtask_buf *out) {
    bool prime = has_no_divisor(*(const uint64_t *)in);
    (void)size;
    return mtask_buf_append(out, &prime, sizeof prime);
}

int main(void) {
    mtask_procpool *executor;
    bool prime[COUNT];
    mtask_procmap_desc map = {.fn = is_prime,
                              .count = COUNT,
                              .in = numbers,
                              .in_size = sizeof *numbers,
                              .out = prime,
                              .out_size = sizeof *prime};
    MUST(mtask_procpool_create(&executor, NULL));
    MUST(mtask_procpool_map(executor, &map, NULL, MTASK_FOREVER));
    MUST(mtask_procpool_destroy(executor));
    for (int i = 0; i < COUNT; i++)
        printf("%" PRIu64 " is prime: %s\n", numbers[i], prime[i] ? "True" : "False");
    return 0;
}
