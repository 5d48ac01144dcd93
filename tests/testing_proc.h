/* testing_proc.h - processes, and ways to see what becomes of them; for tests of mtask_proc.h

   A program that starts processes by MTASK_PROC_SPAWN or MTASK_PROC_FORKSERVER is itself what is
   started: it ends in TESTING_PROC_MAIN instead of TESTING_MAIN. In the functions that run in
   processes IN_CHILD stands for Check's assertions, which are the parent's. */
#ifndef MTASK_TESTING_PROC_H
#define MTASK_TESTING_PROC_H

#include "testing_io.h"

#include "../mtask_proc.h"

#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>

#ifdef MTASK_FORCE_POSIX
enum { HAS_PIDFD = 0 };
#else
enum { HAS_PIDFD = 1 };
#endif

/* ---- main ---- */

/* Runs before each test, in its process: Check's handlers are none of its own, and of its
   children's even less; and who is aborted leaves no core. */
static TESTING_UNUSED void prepare_proc_test(void) {
    struct rlimit none = {0, 0};
    signal(SIGTERM, SIG_DFL);
    signal(SIGINT, SIG_DFL);
    signal(SIGALRM, SIG_DFL);
    testing_check(setrlimit(RLIMIT_CORE, &none) == 0);
}

static TESTING_UNUSED int testing_proc_main(const char *name, const TTest *const *tests,
                                            size_t count) {
    Suite *suite = suite_create(name);
    TCase *tcase = tcase_create(name);
    tcase_set_timeout(tcase, TEST_TIMEOUT);
    tcase_add_checked_fixture(tcase, prepare_proc_test, NULL);
    for (size_t i = 0; i < count; i++)
        tcase_add_test(tcase, tests[i]);
    suite_add_tcase(suite, tcase);
    return testing_main(suite);
}

/* As TESTING_MAIN. */
#define TESTING_PROC_MAIN(name, ...)                                                               \
 int main(int argc, char **argv) {                                                                 \
  const TTest *const tests[] = {__VA_ARGS__};                                                      \
  mtask_proc_init(argc, argv);                                                                     \
  return testing_proc_main(name, tests, sizeof tests / sizeof tests[0]);                           \
 }

/* ---- starting and joining ---- */

static TESTING_UNUSED const char *method_name(mtask_proc_method method) {
    static const char *const names[] = {"DEFAULT", "FORK", "SPAWN", "FORKSERVER"};
    return names[method];
}

/* Calls check(method) for each method; says which one it was if that fails. */
static TESTING_UNUSED void by_each_method(void (*check)(mtask_proc_method method)) {
    static const mtask_proc_method all[] = {MTASK_PROC_FORK, MTASK_PROC_SPAWN,
                                            MTASK_PROC_FORKSERVER};
    for (int i = 0; i < 3; i++) {
        fprintf(stderr, "MTASK_PROC_%s\n", method_name(all[i]));
        check(all[i]);
    }
}

static TESTING_UNUSED mtask_proc *start_desc(const mtask_proc_desc *desc) {
    mtask_proc *proc = NULL;
    ck_assert_status(mtask_proc_start_ex(&proc, desc), MTASK_OK);
    testing_check(proc != NULL);
    return proc;
}

/* Forks a process that runs fn(arg). */
static TESTING_UNUSED mtask_proc *start_proc(mtask_fn fn, void *arg) {
    mtask_proc *proc = NULL;
    ck_assert_status(mtask_proc_start(&proc, fn, arg), MTASK_OK);
    testing_check(proc != NULL);
    return proc;
}

/* Starts a process that runs call on `size` bytes at `in`. */
static TESTING_UNUSED mtask_proc *start_call(mtask_proc_method method, mtask_bytes_fn call,
                                             const void *in, size_t size) {
    mtask_proc_desc desc = {.call = call, .in = in, .in_size = size, .method = method};
    return start_desc(&desc);
}

/* Waits for its end, of which the join must say `expected`. */
static TESTING_UNUSED mtask_outcome join_proc(mtask_proc *proc, mtask_status expected) {
    mtask_outcome outcome = {.status = MTASK_STATUS_COUNT};
    mtask_status joined = mtask_proc_join(proc, &outcome, MTASK_FOREVER);
    if (joined != expected)
        fprintf(stderr, "a process ended as %s: %s\n", mtask_status_name(outcome.status),
                outcome.text);
    ck_assert_status(joined, expected);
    testing_check((outcome.status == MTASK_OK) == (expected == MTASK_OK));
    testing_check(expected == MTASK_OK || outcome.value == NULL);
    return outcome;
}

/* The same, and frees the handle. */
static TESTING_UNUSED mtask_outcome end_proc(mtask_proc *proc, mtask_status expected) {
    mtask_outcome outcome = join_proc(proc, expected);
    ck_assert_status(mtask_proc_close(proc), MTASK_OK);
    return outcome;
}

/* Waits for a process that must succeed and frees its handle; what it returned. */
static TESTING_UNUSED long take_proc(mtask_proc *proc) {
    return (long)(intptr_t)end_proc(proc, MTASK_OK).value;
}

/* The exit code of a process that has ended. */
static TESTING_UNUSED int exitcode_of(mtask_proc *proc) {
    int code = 12345;
    ck_assert_status(mtask_proc_exitcode(proc, &code), MTASK_OK);
    return code;
}

/* ---- what the system knows of processes ---- */

/* What a process does: 'R' runs, 'S' sleeps, 'T' is stopped, 'Z' has ended, and nobody has taken
   note of it; 0: there is no such process. */
static TESTING_UNUSED char state_of(pid_t pid) {
    char path[64], line[512], state = 0;
    const char *end;
    FILE *file;
    snprintf(path, sizeof path, "/proc/%ld/stat", (long)pid);
    file = fopen(path, "r");
    if (file == NULL)
        return 0;
    if (fgets(line, sizeof line, file) != NULL && (end = strrchr(line, ')')) != NULL)
        state = end[2];
    fclose(file);
    return state;
}

static TESTING_UNUSED void await_state(pid_t pid, char state) {
    while (state_of(pid) != state)
        testing_pause(1);
}

/* Returns when the process has ended; nobody need have taken note of that. */
static TESTING_UNUSED void await_end(pid_t pid) {
    siginfo_t info;
    char state = 0;
    int result;
    do
        result = waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT);
    while (result != 0 && errno == EINTR);
    while (result != 0 && (state = state_of(pid)) != 0 && state != 'Z' && state != 'X')
        testing_pause(1); /* not a child of this one */
}

/* Whether a child of this process has ended, and nobody has taken note of it. */
static TESTING_UNUSED bool has_zombies(void) {
    siginfo_t info;
    memset(&info, 0, sizeof info);
    return waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid != 0;
}

/* ---- what processes share ---- */

/* Memory, all zero, that this process and those it forks share until they end. */
static TESTING_UNUSED void *share_memory(size_t size) {
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    testing_check(memory != MAP_FAILED);
    return memory;
}

/* Two pipes by which a process and its parent, or a parent's parent, tell each other single
   letters; also the input of a `call`, which has the ends under the same numbers. */
typedef struct wires {
    int go[2];   /* to the process */
    int tell[2]; /* from it */
} wires;

static TESTING_UNUSED void open_wires(wires *pair) {
    testing_check(pipe2(pair->go, O_CLOEXEC) == 0 && pipe2(pair->tell, O_CLOEXEC) == 0);
}

static TESTING_UNUSED void end_wires(const wires *pair) {
    end_plain(pair->go);
    testing_check(close(pair->tell[0]) == 0);
    testing_check(pair->tell[1] < 0 || close(pair->tell[1]) == 0);
}

/* In the process: */
static TESTING_UNUSED void tell(const wires *pair, char letter) {
    IN_CHILD(write(pair->tell[1], &letter, 1) == 1);
}

static TESTING_UNUSED void await_go(const wires *pair) {
    char letter;
    IN_CHILD(read(pair->go[0], &letter, 1) == 1);
}

/* From now on only others can tell something: when they have ended, hear returns 0. */
static TESTING_UNUSED void hear_others(wires *pair) {
    testing_check(close(pair->tell[1]) == 0);
    pair->tell[1] = -1;
}

/* In the parent: the next letter; 0: nobody is left who could tell one. */
static TESTING_UNUSED char hear(const wires *pair) {
    char letter = 0;
    ssize_t count;
    do
        count = read(pair->tell[0], &letter, 1);
    while (count < 0 && errno == EINTR);
    testing_check(count >= 0);
    return letter;
}

static TESTING_UNUSED void say_go(const wires *pair) {
    testing_check(write(pair->go[1], "g", 1) == 1);
}

/* A `call` that is told wires: tells 'b', waits for go, tells 'e'. */
static TESTING_UNUSED mtask_status wait_for_go(const void *in, size_t size, mtask_buf *out) {
    wires pair;
    (void)out;
    IN_CHILD(size == sizeof pair);
    memcpy(&pair, in, sizeof pair);
    tell(&pair, 'b');
    await_go(&pair);
    tell(&pair, 'e');
    return MTASK_OK;
}

/* Starts a `call` that is told wires; and returns at once. */
static TESTING_UNUSED mtask_proc *start_wired(mtask_proc_method method, mtask_bytes_fn call,
                                              const wires *pair, bool daemon) {
    const int fds[] = {pair->go[0], pair->tell[1]};
    mtask_proc_desc desc = {.call = call, .in = pair, .in_size = sizeof *pair};
    desc.method = method;
    desc.daemon = daemon;
    desc.fds = fds;
    desc.fd_count = 2;
    return start_desc(&desc);
}

/* Starts a process that waits for go, and returns when it does. */
static TESTING_UNUSED mtask_proc *start_waiting(mtask_proc_method method, const wires *pair,
                                                bool daemon) {
    mtask_proc *proc = start_wired(method, wait_for_go, pair, daemon);
    ck_assert_int_eq(hear(pair), 'b');
    return proc;
}

/* ---- processes of which mtask_proc.h knows nothing ---- */

/* Forks a process that runs fn(arg) and ends. */
static TESTING_UNUSED pid_t start_plain(void (*fn)(void *arg), void *arg) {
    pid_t pid = fork_child();
    if (pid == 0) {
        fn(arg);
        _exit(0);
    }
    return pid;
}

/* Waits for its end; fails the test if something failed there. */
static TESTING_UNUSED void reap(pid_t pid) {
    int status = 0;
    testing_check(waitpid(pid, &status, 0) == pid);
    ck_assert_msg(status == 0, "a process ended with %#x", (unsigned)status);
}

static TESTING_UNUSED void slay(pid_t pid) {
    testing_check(kill(pid, SIGKILL) == 0);
    testing_check(waitpid(pid, NULL, 0) == pid);
}

#endif
