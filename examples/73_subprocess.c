// mkdir -p build && cc -O2 -pthread -I. -o build/73_subprocess examples/73_subprocess.c
//
// Commands: call, communicate, input and captured output, a time-out, `check`. A command that fills
// both of its pipes, while we have a megabyte to write to it, hangs nobody. No shell is asked unless
// one is asked for.
//
// Output:
//   $ echo hello, "world"; $HOME
//   hello, "world"; $HOME
//   Exit code: 0
//   $ sh
//   6 * 7 = 42
//   it also says: sh: the end
//   Exit code: 3
//   tee: 1000000 bytes came back through each of two pipes, the same: yes
//   a shell: one two three
//   both in one: out, err, out
//   sleep: MTASK_TIMEOUT, exit code -9, after a second: yes
//   false: MTASK_OK, exit code 1
//   false, check: MTASK_FAILED, exit code 1
//   no-such-program: MTASK_NOT_FOUND
//   started: runs yes; terminated: exit code -15
#define MTASK_IMPLEMENTATION
#include "mtask_proc.h"
#include "common.h"
#include <string.h>

enum { MUCH = 1000000 };

/* subprocess.call: it writes where we write. */
static void call(void) {
    const char *argv[] = {"echo", "hello, \"world\"; $HOME", NULL};
    mtask_cmd_result result;
    printf("$ %s %s\n", argv[0], argv[1]);
    MUST(mtask_cmd_run(argv, NULL, &result));
    printf("Exit code: %d\n", result.code);
    mtask_cmd_result_free(&result);
}

/* Popen and communicate: what a user would type comes from here. */
static void communicate(void) {
    const char *argv[] = {"sh", NULL};
    const char input[] = "a=6\nb=7\necho \"$a * $b = $((a * b))\"\necho sh: the end >&2\nexit 3\n";
    mtask_cmd_opts pipes = {.in = MTASK_CMD_PIPE, .capture = true};
    mtask_cmd_result result;
    mtask_cmd *sh;
    printf("$ sh\n");
    MUST(mtask_cmd_start(&sh, argv, &pipes));
    MUST(mtask_cmd_communicate(sh, input, strlen(input), 0, &result, MTASK_FOREVER));
    printf("%sit also says: %sExit code: %d\n", result.out.data, result.err.data, result.code);
    mtask_cmd_result_free(&result);
    mtask_cmd_destroy(sh);
}

static void fill_both_pipes(void) {
    static char much[MUCH];
    const char *argv[] = {"tee", "/dev/stderr", NULL};
    mtask_cmd_opts opts = {.input = much, .input_size = sizeof much, .capture = true};
    mtask_cmd_result result;
    memset(much, 'x', sizeof much);
    MUST(mtask_cmd_run(argv, &opts, &result));
    bool same = result.out.size == MUCH && memcmp(result.out.data, much, MUCH) == 0 &&
                result.err.size == MUCH && memcmp(result.err.data, much, MUCH) == 0;
    printf("tee: %zu bytes came back through each of two pipes, the same: %s\n", result.out.size,
           same ? "yes" : "no");
    mtask_cmd_result_free(&result);
}

static void shell(void) {
    const char *words[] = {"echo $1 two three", "sh", "one", NULL};
    const char *mixed[] = {"echo out,; echo err, >&2; echo out", NULL};
    mtask_cmd_opts opts = {.shell = true, .capture = true};
    mtask_cmd_result result;
    MUST(mtask_cmd_run(words, &opts, &result));
    printf("a shell: %s", result.out.data);
    mtask_cmd_result_free(&result);
    opts.err = MTASK_CMD_TO_STDOUT;
    MUST(mtask_cmd_run(mixed, &opts, &result));
    for (char *end = result.out.data; (end = strchr(end, '\n')) != NULL && end[1] != '\0';)
        *end = ' ';
    printf("both in one: %s", result.out.data);
    mtask_cmd_result_free(&result);
}

static void time_out(void) {
    const char *argv[] = {"sleep", "1000", NULL};
    mtask_cmd_opts opts = {.timeout = seconds(1)};
    mtask_cmd_result result;
    int64_t start = mtask_now();
    mtask_status status = mtask_cmd_run(argv, &opts, &result);
    printf("sleep: %s, exit code %d, after a second: %s\n", mtask_status_name(status), result.code,
           seconds_since(start) >= 1 ? "yes" : "no");
    mtask_cmd_result_free(&result);
}

static void check(void) {
    const char *argv[] = {"false", NULL}, *none[] = {"no-such-program", NULL};
    mtask_cmd_opts opts = {.check = true};
    mtask_cmd_result result;
    mtask_status status = mtask_cmd_run(argv, NULL, &result);
    printf("false: %s, exit code %d\n", mtask_status_name(status), result.code);
    mtask_cmd_result_free(&result);
    status = mtask_cmd_run(argv, &opts, &result);
    printf("false, check: %s, exit code %d\n", mtask_status_name(status), result.code);
    mtask_cmd_result_free(&result);
    printf("no-such-program: %s\n", mtask_status_name(mtask_cmd_run(none, NULL, NULL)));
}

static void terminate(void) {
    const char *argv[] = {"sleep", "1000", NULL};
    mtask_cmd *cmd;
    int code;
    MUST(mtask_cmd_start(&cmd, argv, NULL));
    printf("started: runs %s; ", mtask_cmd_poll(cmd, &code) == MTASK_TIMEOUT ? "yes" : "no");
    MUST(mtask_cmd_terminate(cmd));
    MUST(mtask_cmd_wait(cmd, &code, MTASK_FOREVER));
    printf("terminated: exit code %d\n", code);
    mtask_cmd_destroy(cmd);
}

int main(void) {
    setvbuf(stdout, NULL, _IOLBF, BUFSIZ); /* commands write to it, too, in between */
    call();
    communicate();
    fill_both_pipes();
    shell();
    time_out();
    check();
    terminate();
    return 0;
}
