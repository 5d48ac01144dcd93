// mkdir -p build && cc -O2 -pthread -I. -o build/49_million examples/49_million.c
//
// A million sleeping coroutines: `build/49_million [COUNT]`. Each has a stack of its own: 256 KiB of
// address space, of which it pays for what it uses, here a page of 4 KiB. When all have been started,
// they go to sleep together, for 10 to 15 seconds, each as long as chance has it. On a terminal a line
// tells how many are asleep. (A million need some 5 GB.)
//
// Output with 2000 (patterns):
//   ^2000 started in [0-9.]+ seconds$
//   ^2000 asleep at once; [0-9]+ bytes of memory each$
//   ^2000 woken; none too early; 1[0-9.]+ seconds in all$
#define MTASK_IMPLEMENTATION
#include "mtask_coro.h"
#include "common.h"
#include <unistd.h>

/* Tasks of one loop take turns, so what they share needs no lock. */
static size_t count = 1000000, started, asleep, most, woken, early;
static int64_t shortest, spread; /* of the naps */
static mtask_event night;        /* for which all wait first */
static mtask_waitgroup awake;    /* when it is 0, all have slept */

static void *nap(void *arg) {
    int64_t duration = shortest + (int64_t)((uintptr_t)arg * 2654435761U % 1000) * spread / 1000;
    mtask_status status = mtask_event_wait(&night, MTASK_FOREVER);
    int64_t start = mtask_now();
    most = ++asleep > most ? asleep : most;
    if (status == MTASK_OK)
        status = mtask_sleep(duration);
    asleep--;
    woken++;
    early += mtask_now() - start < duration;
    MUST(mtask_waitgroup_done(&awake));
    return status == MTASK_OK ? arg : mtask_fail(status, NULL);
}

static void erase(void) {
    if (isatty(STDERR_FILENO))
        fprintf(stderr, "\r\033[K");
}

/* Draws the line, until it is cancelled. */
static void *show(void *arg) {
    do {
        erase();
        fprintf(stderr, "%zu started, %zu asleep, %zu woken", started, asleep, woken);
    } while (mtask_sleep(MTASK_MS(50)) == MTASK_OK);
    erase();
    return arg;
}

/* Bytes of memory that the process has now; 0 where the system does not tell. */
static double memory(void) {
    FILE *statm = fopen("/proc/self/statm", "r");
    unsigned long pages = 0;
    if (statm != NULL && fscanf(statm, "%*u %lu", &pages) != 1)
        pages = 0;
    if (statm != NULL)
        fclose(statm);
    return (double)pages * (double)sysconf(_SC_PAGESIZE);
}

static void *program(void *arg) {
    double before = memory();
    int64_t start = mtask_now();
    if (isatty(STDERR_FILENO))
        MUST(mtask_go(show, arg, NULL)); /* when this task returns, that one is cancelled */
    MUST(mtask_waitgroup_add(&awake, (int64_t)count));
    for (; started < count; started++) {
        MUST(mtask_go(nap, (void *)started, NULL));
        if (started % 1000 == 999)
            MUST(mtask_yield()); /* now and then the others have their turn */
    }
    MUST(mtask_yield());
    erase();
    printf("%zu started in %.3f seconds\n", started, (double)(mtask_now() - start) / 1e9);
    mtask_event_set(&night);
    MUST(mtask_yield()); /* all go to sleep, before it is our turn again */
    erase();
    printf("%zu asleep at once; %.0f bytes of memory each\n", most,
           (memory() - before) / (double)count);
    MUST(mtask_waitgroup_wait(&awake, MTASK_FOREVER));
    return arg;
}

int main(int argc, char **argv) {
    if (argc > 1 && sscanf(argv[1], "%zu", &count) != 1)
        return 2;
    shortest = seconds(10);
    spread = seconds(5);
    int64_t start = mtask_now();
    MUST(mtask_loop_run(program, NULL, NULL));
    printf("%zu woken; %s too early; %.3f seconds in all\n", woken, early == 0 ? "none" : "some",
           seconds_since(start));
    return 0;
}
