/* peer_coro_ucontext.c FIGURE - our own coroutines, built to switch without assembly: prints ns. It
   is a program of its own since one program has one way to switch; the loop is bench_coro.c's. */
#define MTASK_IMPLEMENTATION
#define MTASK_CORO_UCONTEXT
#define MTASK_CORO_NO_LOOP
#include "mtask_coro.h"

#include "bench.h"

#define SWITCHES 8000000

static void *answer(void *in) {
    while (mtask_coro_yield(in, &in) == MTASK_OK)
        ;
    return NULL;
}

static double switch_pair(intptr_t times) {
    mtask_coro *coro;
    void *out;
    if (mtask_coro_create(&coro, answer, NULL) != MTASK_OK)
        return (double)NAN;
    mtask_coro_resume(coro, NULL, &out);
    double start = bench_cpu_ns();
    for (intptr_t i = 0; i < times; i++)
        if (mtask_coro_resume(coro, (void *)i, &out) != MTASK_OK || out != (void *)i)
            return (double)NAN;
    double lasted = bench_cpu_ns() - start;
    mtask_coro_close(coro);
    mtask_coro_destroy(coro);
    return lasted / (double)times;
}

int main(int argc, char **argv) {
    if (argc < 2 || strcmp(argv[1], "switch_pair_ucontext") != 0) {
        fprintf(stderr, "peer_coro_ucontext: no such figure\n");
        return 2;
    }
    switch_pair(SWITCHES / 4);
    double figure = switch_pair(SWITCHES);
    printf("%.3f\n", figure);
    return isnan(figure);
}
