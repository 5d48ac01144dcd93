// mkdir -p build && cc -O2 -pthread -I. -o build/63_signals examples/63_signals.c
//
// Signals as something to wait for: a task gets them one by one, and may do in answer what it
// likes, where a signal handler may do almost nothing. SIGUSR1: say how far the work is. SIGHUP:
// read the settings again. SIGTERM and SIGINT (Ctrl-C): end the work, which is cancelled, and
// leaves things in order. From then on signals do what they did before: another Ctrl-C would end
// it at once. Here a thread sends the signals to its own process; `build/63_signals wait` leaves
// that to you.
//
// Output (patterns):
//   ^SIGUSR1: [0-9]+ parts are done$
//   ^SIGHUP: a part takes 0.1 seconds now$
//   ^SIGUSR1: [0-9]+ parts are done$
//   ^SIGTERM: enough$
//   ^worker: MTASK_CANCELED after [0-9]+ parts; they are saved$
#define MTASK_IMPLEMENTATION
#include "mtask_io.h"
#include "common.h"
#include <signal.h>
#include <string.h>
#include <unistd.h>

static const int caught[] = {SIGUSR1, SIGHUP, SIGTERM, SIGINT};
static double part_time = 0.2; /* a setting; in seconds */
static int parts;              /* used by tasks of one loop alone: no lock */

static void *work(void *arg) {
    mtask_status status;
    while ((status = mtask_sleep(seconds(part_time))) == MTASK_OK)
        parts++;
    mtask_shield_begin();
    MUST(mtask_sleep(seconds(0.2))); /* stands for writing them to a file */
    mtask_shield_end();
    printf("worker: %s after %d parts; they are saved\n", mtask_status_name(status), parts);
    return arg;
}

/* Obeys signals until one of them says that it is enough. */
static void obey(mtask_signals *signals) {
    int number;
    for (;;) {
        MUST(mtask_signals_wait(signals, &number, MTASK_FOREVER)); /* parks this task */
        if (number == SIGUSR1) {
            printf("SIGUSR1: %d parts are done\n", parts);
        } else if (number == SIGHUP) {
            part_time = 0.1;
            printf("SIGHUP: a part takes %.1f seconds now\n", part_time);
        } else {
            printf("%s: enough\n", number == SIGTERM ? "SIGTERM" : "SIGINT");
            return;
        }
    }
}

static void *send_signals(void *arg) {
    static const int sent[] = {SIGUSR1, SIGHUP, SIGUSR1, SIGTERM};
    for (int i = 0; i < 4; i++) {
        MUST(mtask_sleep(seconds(0.5)));
        MUST(kill(getpid(), sent[i]) == 0 ? MTASK_OK : MTASK_SYSTEM);
    }
    return arg;
}

static void *program(void *wait) {
    mtask_signals *signals;
    mtask_future *worker;
    MUST(mtask_signals_create(&signals, caught, sizeof caught / sizeof *caught));
    MUST(mtask_go(work, NULL, &worker));
    if (wait == NULL)
        MUST(mtask_thread_spawn(send_signals, NULL));
    else
        printf("process %d waits for signals\n", (int)getpid());
    obey(signals);
    mtask_signals_destroy(signals); /* who is impatient now may press Ctrl-C again */
    MUST(mtask_future_cancel(worker));
    MUST(mtask_future_wait(worker, MTASK_FOREVER));
    mtask_future_release(worker);
    return NULL;
}

int main(int argc, char **argv) {
    bool wait = argc > 1 && strcmp(argv[1], "wait") == 0;
    setvbuf(stdout, NULL, _IOLBF, 0);
    MUST(mtask_loop_run(program, wait ? &wait : NULL, NULL));
    MUST(mtask_thread_join_all(MTASK_FOREVER));
    return 0;
}
