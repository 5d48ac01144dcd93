// mkdir -p build && cc -O2 -pthread -I. -o build/71_process examples/71_process.c
//
// A process is started and joined; the same function runs in this process if it is just called
// (Python's run). How a process ended: by its exit code, -N if signal N ended it, and by its
// outcome, which has the text of a failure, too.
//
// Output (patterns):
//   ^Parent process [0-9]+\.$
//   ^Run child process run \(in the parent\)\.\.\.$
//   ^Child process will start\.$
//   ^Run child process test \(in a process of its own\)\.\.\.$
//   ^Child process end\.$
//   ^run_proc: MTASK_OK, exit code 0$
//   ^fail: MTASK_FAILED, exit code 1: MTASK_NOT_FOUND, there is no file 7$
//   ^call_exit: MTASK_FAILED, exit code 3: MTASK_FAILED, .*$
//   ^raise_signal: MTASK_FAILED, exit code -10: MTASK_CRASHED, .*$
//   ^sleep_long: not joined within a second: MTASK_TIMEOUT; alive: yes$
//   ^sleep_long, terminated: MTASK_FAILED, exit code -15: MTASK_CRASHED, .*$
//   ^sleep_long, killed: MTASK_FAILED, exit code -9: MTASK_CRASHED, .*$
#define MTASK_IMPLEMENTATION
#include "mtask_proc.h"
#include "common.h"
#include <signal.h>
#include <unistd.h>

static pid_t parent;

static void *run_proc(void *name) {
    printf("Run child process %s (in %s)...\n", (const char *)name,
           getpid() == parent ? "the parent" : "a process of its own");
    return NULL;
}

static void *fail(void *arg) {
    return mtask_fail(MTASK_NOT_FOUND, "there is no file %d", *(int *)arg);
}

static void *call_exit(void *arg) {
    exit(*(int *)arg);
}

static void *raise_signal(void *arg) {
    (void)arg;
    raise(SIGUSR1);
    return NULL; /* it is not reached: nobody handles that signal */
}

static void *sleep_long(void *arg) {
    (void)arg;
    MUST(mtask_sleep(MTASK_SEC(1000)));
    return NULL;
}

/* Joins it and tells how it ended. */
static void end(mtask_proc *process, const char *name) {
    mtask_outcome outcome;
    int code;
    mtask_status status = mtask_proc_join(process, &outcome, MTASK_FOREVER);
    MUST(mtask_proc_exitcode(process, &code));
    printf("%s: %s, exit code %d", name, mtask_status_name(status), code);
    if (status != MTASK_OK)
        printf(": %s, %s", mtask_status_name(outcome.status), outcome.text);
    putchar('\n');
    MUST(mtask_proc_close(process));
}

static mtask_proc *start(mtask_fn fn, void *arg) {
    mtask_proc *process;
    MUST(mtask_proc_start(&process, fn, arg));
    return process;
}

int main(void) {
    int file = 7, code = 3;
    parent = getpid();
    printf("Parent process %d.\n", (int)parent);
    run_proc((void *)"run");
    printf("Child process will start.\n");
    mtask_proc *process = start(run_proc, (void *)"test");
    MUST(mtask_proc_join(process, NULL, MTASK_FOREVER));
    printf("Child process end.\n");
    end(process, "run_proc"); /* it can be joined again */

    end(start(fail, &file), "fail");
    end(start(call_exit, &code), "call_exit");
    end(start(raise_signal, NULL), "raise_signal");

    process = start(sleep_long, NULL);
    mtask_status status = mtask_proc_join(process, NULL, seconds(1));
    printf("sleep_long: not joined within a second: %s; alive: %s\n", mtask_status_name(status),
           mtask_proc_is_alive(process) ? "yes" : "no");
    MUST(mtask_proc_terminate(process));
    end(process, "sleep_long, terminated");
    process = start(sleep_long, NULL);
    MUST(mtask_proc_kill(process));
    end(process, "sleep_long, killed");
    return 0;
}
