/* test_mtask_cmd.c - commands: how they end, what they are given and what they write, time-outs,
   what they inherit, and that nothing of them is left behind */
#include "testing_io.h"

#include "../mtask_proc.h"

#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

/* Longer than any test takes: what ends such a wait is not the time. */
#define LONG MTASK_SEC(100000)

#define ARGV(...)    ((const char *const[]){__VA_ARGS__, NULL})
#define OPTIONS(...) (&(const mtask_cmd_opts){__VA_ARGS__})

/* ---- commands ---- */

/* Runs a line of a shell; what mtask_cmd_run answers. */
static mtask_status run_line(const char *line, const mtask_cmd_opts *opts,
                             mtask_cmd_result *result) {
    return mtask_cmd_run(ARGV("sh", "-c", line), opts, result);
}

/* Fails the test unless a shell's line ends with that code. */
static void check_code(const char *line, int code) {
    mtask_cmd_result result;
    ck_assert_status(run_line(line, NULL, &result), MTASK_OK);
    ck_assert_int_eq(result.code, code);
    mtask_cmd_result_free(&result);
}

/* Fails the test unless this was captured. Behind it lies a zero. */
static void check_text(const mtask_buf *captured, const char *text) {
    ck_assert_str_eq(captured->data == NULL ? "" : captured->data, text);
    ck_assert_uint_eq(captured->size, strlen(text));
}

/* Fails the test unless the command succeeds, and writes these to its output and its errors. */
static void check_output(const char *const *argv, const mtask_cmd_opts *opts, const char *out,
                         const char *err) {
    mtask_cmd_result result;
    memset(&result, 0xA5, sizeof result);
    ck_assert_status(mtask_cmd_run(argv, opts, &result), MTASK_OK);
    check_text(&result.out, out);
    check_text(&result.err, err);
    ck_assert_int_eq(result.code, 0);
    mtask_cmd_result_free(&result);
}

/* Fails the test unless a command cannot be started, for this reason. `error`: 0: errno says nothing. */
static void check_refused(const char *const *argv, const mtask_cmd_opts *opts, mtask_status status,
                          int error) {
    mtask_cmd_result result;
    mtask_cmd *cmd = NULL;
    memset(&result, 0xA5, sizeof result);
    errno = 0;
    ck_assert_status(mtask_cmd_run(argv, opts, &result), status);
    ck_assert(error == 0 || errno == error);
    ck_assert_uint_eq(result.out.size, 0);
    ck_assert_uint_eq(result.err.size, 0);
    mtask_cmd_result_free(&result);
    ck_assert_status(mtask_cmd_run(argv, opts, NULL), status);
    if (opts == NULL || opts->timeout >= 0) {
        errno = 0;
        ck_assert_status(mtask_cmd_start(&cmd, argv, opts), status);
        ck_assert(error == 0 || errno == error);
    }
}

static mtask_cmd *start(const char *const *argv, const mtask_cmd_opts *opts) {
    mtask_cmd *cmd = NULL;
    ck_assert_status(mtask_cmd_start(&cmd, argv, opts), MTASK_OK);
    testing_check(cmd != NULL);
    return cmd;
}

/* A command that does not end by itself. */
static mtask_cmd *start_sleep(const mtask_cmd_opts *opts) {
    return start(ARGV("sleep", "1000"), opts);
}

/* Waits for a command's end; its code. */
static int code_of(mtask_cmd *cmd) {
    int code = 12345;
    ck_assert_status(mtask_cmd_wait(cmd, &code, LONG), MTASK_OK);
    return code;
}

/* ---- processes ---- */

/* Whether the process runs no more: it is not there, or a zombie. */
static bool is_gone(pid_t pid) {
    char path[64], line[512], state = '?';
    FILE *file;
    snprintf(path, sizeof path, "/proc/%ld/stat", (long)pid);
    file = fopen(path, "r");
    if (file == NULL)
        return true;
    if (fgets(line, sizeof line, file) != NULL && strrchr(line, ')') != NULL)
        state = strrchr(line, ')')[2];
    fclose(file);
    return state == 'Z' || state == 'X';
}

/* Returns when it is; who waits for that ends by the watchdog if it never is. */
static void await_gone(pid_t pid) {
    while (!is_gone(pid))
        linger();
}

/* Fails the test if this process has a child, also one that has ended. */
static void check_no_child(void) {
    int status;
    pid_t pid = waitpid(-1, &status, WNOHANG);
    ck_assert_int_eq(pid, -1);
    ck_assert_int_eq(errno, ECHILD);
}

/* The number that a command has written. */
static pid_t read_pid(const mtask_buf *captured) {
    long pid = captured->data == NULL ? 0 : strtol(captured->data, NULL, 10);
    testing_check(pid > 1);
    return (pid_t)pid;
}

/* The number that a command that runs writes to its pipe. */
static pid_t receive_pid(const mtask_cmd *cmd) {
    char text[32] = "";
    for (size_t size = 0, count; strchr(text, '\n') == NULL; size += count)
        ck_assert_status(
            mtask_io_read(mtask_cmd_stdout(cmd), text + size, sizeof text - 1 - size, &count, LONG),
            MTASK_OK);
    return (pid_t)strtol(text, NULL, 10);
}

/* ---- files ---- */

/* Makes a file in the folder; its path, in the same memory each time. */
static const char *make_file(const char *name, const char *text, unsigned mode) {
    const char *path = path_of(name);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    testing_check(fd >= 0);
    feed(fd, text);
    testing_check(fchmod(fd, (mode_t)mode) == 0 && close(fd) == 0);
    return path;
}

/* A file of nothing that vanishes when it is closed. */
static int open_temporary(void) {
    return open_file(0);
}

/* Fails the test unless the file holds this text, and closes it. */
static void check_file(int fd, const char *text) {
    char got[256];
    ssize_t size = pread(fd, got, sizeof got - 1, 0);
    testing_check(size >= 0);
    got[size] = '\0';
    ck_assert_str_eq(got, text);
    testing_check(close(fd) == 0);
}

/* ---- how they end ---- */

static void *end_somehow(void *arg) {
    check_code("exit 0", 0);
    check_code("exit 7", 7);
    check_code("exit 255", 255);
    check_code("kill -KILL $$", -SIGKILL);
    check_code("kill -TERM $$", -SIGTERM);
    check_code("ulimit -c 0; kill -ABRT $$", -SIGABRT);
    ck_assert_status(mtask_cmd_run(ARGV("false"), NULL, NULL), MTASK_OK);
    check_no_child();
    return arg;
}

START_TEST(the_code_of_a_command_is_its_exit_code_or_its_signal) {
    everywhere(end_somehow, NULL);
}
END_TEST

static void *check_codes(void *arg) {
    const mtask_cmd_opts *opts = OPTIONS(.check = true, .capture = true);
    mtask_cmd_result result;
    ck_assert_status(run_line("exit 0", opts, &result), MTASK_OK);
    mtask_cmd_result_free(&result);
    ck_assert_status(run_line("echo out; echo err >&2; exit 3", opts, &result), MTASK_FAILED);
    ck_assert_int_eq(result.code, 3);
    check_text(&result.out, "out\n");
    check_text(&result.err, "err\n");
    mtask_cmd_result_free(&result);
    ck_assert_status(run_line("kill -TERM $$", opts, &result), MTASK_FAILED);
    ck_assert_int_eq(result.code, -SIGTERM);
    mtask_cmd_result_free(&result);
    ck_assert_status(run_line("exit 1", opts, NULL), MTASK_FAILED);
    return arg;
}

START_TEST(a_code_that_is_not_0_is_a_failure_only_if_it_is_checked) {
    everywhere(check_codes, NULL);
}
END_TEST

/* ---- what cannot be started ---- */

static void *find_nothing(void *arg) {
    char script[320], text[320];
    snprintf(script, sizeof script, "%s", make_file("orphan", "#!/no/such/interpreter\n", 0700));
    snprintf(text, sizeof text, "%s", make_file("text", "", 0600));
    check_refused(ARGV("mtask-no-such-program"), NULL, MTASK_NOT_FOUND, 0);
    check_refused(ARGV("/no/such/program"), OPTIONS(.capture = true), MTASK_NOT_FOUND, 0);
    check_refused(ARGV("true"), OPTIONS(.cwd = "/no/such/folder"), MTASK_NOT_FOUND, 0);
    check_refused(ARGV("true"), OPTIONS(.cwd = text), MTASK_NOT_FOUND, 0);
    check_refused(ARGV(script), OPTIONS(.input = "x", .input_size = 1, .capture = true),
                  MTASK_NOT_FOUND, 0);
    check_no_child();
    return arg;
}

START_TEST(what_is_not_there_is_not_found) {
    open_folder();
    everywhere(find_nothing, NULL);
    end_folder();
}
END_TEST

static void *be_refused(void *arg) {
    char *much = (char *)malloc(1 << 20);
    char path[320];
    testing_check(much != NULL);
    memset(much, 'x', (1 << 20) - 1);
    much[(1 << 20) - 1] = '\0';
    snprintf(path, sizeof path, "%s", make_file("text", "echo no\n", 0600));
    check_refused(ARGV(path), OPTIONS(.capture = true), MTASK_SYSTEM, EACCES);
    check_refused(ARGV("/tmp"), NULL, MTASK_SYSTEM, EACCES);
    check_refused(ARGV("true", much), NULL, MTASK_SYSTEM, E2BIG);
    snprintf(path, sizeof path, "%s", make_file("nothing", "echo no\n", 0700));
    check_refused(ARGV(path), NULL, MTASK_SYSTEM, ENOEXEC);
    check_no_child();
    free(much);
    return arg;
}

START_TEST(errno_says_why_the_system_refuses_to_run_it) {
    open_folder();
    everywhere(be_refused, NULL);
    end_folder();
}
END_TEST

START_TEST(what_makes_no_sense_is_invalid) {
    const char *const nothing[] = {NULL};
    const char *const argv[] = {"true", NULL};
    mtask_cmd *cmd = NULL;
    static int fds[201];
    check_refused(NULL, NULL, MTASK_INVALID, 0);
    check_refused(nothing, NULL, MTASK_INVALID, 0);
    check_refused(ARGV(""), NULL, MTASK_INVALID, 0);
    check_refused(argv, OPTIONS(.timeout = -1), MTASK_INVALID, 0);
    check_refused(argv, OPTIONS(.in = MTASK_CMD_TO_STDOUT), MTASK_INVALID, 0);
    check_refused(argv, OPTIONS(.out = MTASK_CMD_TO_STDOUT), MTASK_INVALID, 0);
    check_refused(argv, OPTIONS(.out = (mtask_cmd_stdio)77), MTASK_INVALID, 0);
    check_refused(argv, OPTIONS(.err = MTASK_CMD_FD, .err_fd = -1), MTASK_SYSTEM, EBADF);
    check_refused(argv, OPTIONS(.fds = fds, .fd_count = 201), MTASK_INVALID, 0);
    check_refused(argv, OPTIONS(.fd_count = 1), MTASK_INVALID, 0);
    ck_assert_status(mtask_cmd_start(NULL, argv, NULL), MTASK_INVALID);
    cmd = start_sleep(NULL);
    ck_assert_status(mtask_cmd_wait(cmd, NULL, -1), MTASK_INVALID);
    ck_assert_status(mtask_cmd_communicate(cmd, NULL, 0, 0, NULL, -1), MTASK_INVALID);
    ck_assert_status(mtask_cmd_signal(cmd, 9999), MTASK_INVALID);
    ck_assert_status(mtask_cmd_signal(cmd, -1), MTASK_INVALID);
    ck_assert_status(mtask_cmd_poll(cmd, NULL), MTASK_TIMEOUT);
    mtask_cmd_destroy(cmd);
    mtask_cmd_destroy(NULL);
}
END_TEST

/* Opens descriptors until there is no gap between those of this process. */
static void fill_gaps(void) {
    int fd = dup(0);
    testing_check(fd >= 0);
    while (count_fds() != fd + 1) {
        fd = dup(0);
        testing_check(fd >= 0);
    }
}

START_TEST(without_descriptors_it_is_refused_and_leaves_nothing_behind) {
    struct rlimit limit, few;
    int before;
    check_output(ARGV("cat"), OPTIONS(.input = "x", .input_size = 1, .capture = true), "x", "");
    testing_check(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    fill_gaps();
    before = count_fds();
    for (int more = 0; more < 14; more++) {
        mtask_cmd_result result;
        mtask_status status;
        few = limit;
        few.rlim_cur = (rlim_t)(before + more);
        testing_check(setrlimit(RLIMIT_NOFILE, &few) == 0);
        status = mtask_cmd_run(ARGV("cat"), OPTIONS(.input = "x", .input_size = 1, .capture = true),
                               &result);
        testing_check(status == MTASK_OK || errno == EMFILE);
        testing_check(setrlimit(RLIMIT_NOFILE, &limit) == 0);
        if (status != MTASK_OK)
            ck_assert_status(status, MTASK_SYSTEM);
        check_text(&result.out, status == MTASK_OK && result.code == 0 ? "x" : "");
        mtask_cmd_result_free(&result);
        ck_assert_int_eq(count_fds(), before);
        check_no_child();
        ck_assert(more < 13 || status == MTASK_OK);
    }
}
END_TEST

/* ---- arguments, environment, working directory ---- */

static void *pass_arguments(void *arg) {
    check_output(ARGV("printf", "%s|", "", "a  b", "*", "$HOME", "'\"\\", "\n"),
                 OPTIONS(.capture = true), "|a  b|*|$HOME|'\"\\|\n|", "");
    check_output(ARGV("echo \"$0-$1-$2-$#\"", "zero", "one", "t w  o"),
                 OPTIONS(.capture = true, .shell = true), "zero-one-t w  o-2\n", "");
    check_output(ARGV("echo a | tr a b; echo $#"), OPTIONS(.capture = true, .shell = true),
                 "b\n0\n", "");
    return arg;
}

START_TEST(arguments_arrive_as_they_are_and_reach_a_shell_only_if_asked) {
    everywhere(pass_arguments, NULL);
}
END_TEST

START_TEST(a_command_has_the_environment_it_is_given_and_else_the_callers) {
    const char *const some[] = {"A=1", "B=2 3", NULL}, *const none[] = {NULL};
    testing_check(setenv("MTASK_TEST_WORD", "here", 1) == 0);
    check_output(ARGV("/usr/bin/env"), OPTIONS(.capture = true, .env = some), "A=1\nB=2 3\n", "");
    check_output(ARGV("/usr/bin/env"), OPTIONS(.capture = true, .env = none), "", "");
    check_output(ARGV("sh", "-c", "echo $MTASK_TEST_WORD"), OPTIONS(.capture = true), "here\n", "");
}
END_TEST

START_TEST(the_program_is_looked_for_in_the_path_of_its_own_environment) {
    char path[320], both[400];
    const char *const there[] = {path, NULL}, *const nowhere[] = {"PATH=/no/such", NULL};
    const char *const two[] = {both, NULL}, *const none[] = {"A=1", NULL};
    open_folder();
    (void)make_file("mtask-script", "#!/bin/sh\necho \"found $1\"\n", 0700);
    (void)make_file("true", "not a program\n", 0600);
    snprintf(path, sizeof path, "PATH=%s", folder);
    snprintf(both, sizeof both, "PATH=%s::/usr/bin:/bin", folder);
    check_output(ARGV("mtask-script", "it"), OPTIONS(.capture = true, .env = there), "found it\n",
                 "");
    check_refused(ARGV("mtask-script"), NULL, MTASK_NOT_FOUND, 0);
    check_refused(ARGV("true"), OPTIONS(.env = nowhere), MTASK_NOT_FOUND, 0);
    check_refused(ARGV("true"), OPTIONS(.env = there), MTASK_SYSTEM, EACCES);
    check_output(ARGV("true"), OPTIONS(.env = two), "", "");  /* the next of that name */
    check_output(ARGV("true"), OPTIONS(.env = none), "", ""); /* where the system has its own */
    end_folder();
}
END_TEST

START_TEST(a_command_runs_in_the_folder_it_is_told) {
    char wanted[320], before[1024], after[1024];
    open_folder();
    (void)make_file("here", "#!/bin/sh\necho yes\n", 0700);
    snprintf(wanted, sizeof wanted, "%s\n", folder);
    testing_check(getcwd(before, sizeof before) != NULL);
    check_output(ARGV("pwd"), OPTIONS(.capture = true, .cwd = folder), wanted, "");
    check_output(ARGV("./here"), OPTIONS(.capture = true, .cwd = folder), "yes\n", "");
    testing_check(getcwd(after, sizeof after) != NULL);
    ck_assert_str_eq(before, after);
    end_folder();
}
END_TEST

/* ---- input and output ---- */

static void *give_and_take(void *arg) {
    char zeros[5] = {'a', 0, 'b', 0, 0};
    mtask_cmd_result result;
    check_output(ARGV("cat"), OPTIONS(.input = "text", .input_size = 4, .capture = true), "text",
                 "");
    check_output(ARGV("cat"), OPTIONS(.input = "", .capture = true), "", "");
    check_output(ARGV("sh", "-c", "cat; echo err >&2"),
                 OPTIONS(.input = "in", .input_size = 2, .capture = true), "in", "err\n");
    check_output(ARGV("sh", "-c", "echo a; echo b >&2; echo c"),
                 OPTIONS(.capture = true, .err = MTASK_CMD_TO_STDOUT), "a\nb\nc\n", "");
    ck_assert_status(mtask_cmd_run(ARGV("cat"),
                                   OPTIONS(.input = zeros, .input_size = 5, .capture = true),
                                   &result),
                     MTASK_OK);
    ck_assert_uint_eq(result.out.size, 5);
    ck_assert_uint_lt(result.out.capacity, 4096); /* many of them may be kept */
    ck_assert_uint_lt(result.err.capacity, 4096);
    ck_assert_int_eq(memcmp(result.out.data, zeros, 5), 0);
    mtask_cmd_result_free(&result);
    return arg;
}

START_TEST(input_is_fed_and_output_captured_apart_or_in_one) {
    everywhere(give_and_take, NULL);
}
END_TEST

enum { MUCH = 3 << 20 };

/* More than any pipe holds, of the pattern. */
static unsigned char *make_much(void) {
    unsigned char *bytes = (unsigned char *)malloc(MUCH);
    testing_check(bytes != NULL);
    make_pattern(bytes, 0, MUCH);
    return bytes;
}

/* Fails the test unless all of it was captured. */
static void check_much(const mtask_buf *captured) {
    ck_assert_uint_eq(captured->size, MUCH);
    check_pattern(captured->data, 0, MUCH);
}

static void *flood(void *arg) {
    unsigned char *much = make_much();
    const mtask_cmd_opts *opts = OPTIONS(.input = much, .input_size = MUCH, .capture = true);
    mtask_cmd_result result;
    ck_assert_status(mtask_cmd_run(ARGV("cat"), opts, &result), MTASK_OK);
    check_much(&result.out);
    mtask_cmd_result_free(&result);
    ck_assert_status(mtask_cmd_run(ARGV("tee", "/dev/stderr"), opts, &result), MTASK_OK);
    check_much(&result.out);
    check_much(&result.err);
    mtask_cmd_result_free(&result);
    ck_assert_status(run_line("head -c 500000 /dev/zero >&2; head -c 700000 /dev/zero;"
                              "head -c 300000 /dev/zero >&2; cat >/dev/null; echo x",
                              opts, &result),
                     MTASK_OK);
    ck_assert_uint_eq(result.out.size, 700002);
    ck_assert_uint_eq(result.err.size, 800000);
    mtask_cmd_result_free(&result);
    free(much);
    return arg;
}

START_TEST(both_sides_may_write_more_than_pipes_hold) {
    everywhere(flood, NULL);
}
END_TEST

static void *refuse_input(void *arg) {
    unsigned char *much = make_much();
    const mtask_cmd_opts *opts = OPTIONS(.input = much, .input_size = MUCH, .capture = true);
    check_output(ARGV("sh", "-c", "exec <&-; echo done"), opts, "done\n", "");
    check_output(ARGV("true"), opts, "", "");
    check_output(ARGV("sh", "-c", "exec <&-; sleep 0.05; echo late"), opts, "late\n", "");
    check_output(ARGV("sh", "-c", "head -c 100000 | wc -c"), opts, "100000\n", "");
    free(much);
    return arg;
}

START_TEST(input_that_is_not_read_is_dropped) {
    testing_check(signal(SIGPIPE, SIG_DFL) != SIG_ERR);
    everywhere(refuse_input, NULL);
}
END_TEST

static void *reach_limits(void *arg) {
    mtask_cmd_result result;
    check_output(ARGV("sh", "-c", "printf 1234; printf 5678 >&2"),
                 OPTIONS(.capture = true, .limit = 4), "1234", "5678");
    ck_assert_status(
        run_line("printf 12345; sleep 1000", OPTIONS(.capture = true, .limit = 4), &result),
        MTASK_OVERFLOW);
    check_text(&result.out, "1234");
    ck_assert_int_eq(result.code, -SIGKILL);
    mtask_cmd_result_free(&result);
    ck_assert_status(
        run_line("printf 1; yes >&2", OPTIONS(.capture = true, .limit = 100000), &result),
        MTASK_OVERFLOW);
    ck_assert_uint_eq(result.err.size, 100000);
    mtask_cmd_result_free(&result);
    ck_assert_status(mtask_cmd_run(ARGV("yes"), OPTIONS(.capture = true, .limit = 1), NULL),
                     MTASK_OVERFLOW);
    check_no_child();
    return arg;
}

START_TEST(a_command_that_writes_more_than_the_limit_is_killed) {
    everywhere(reach_limits, NULL);
}
END_TEST

START_TEST(input_and_output_go_where_they_are_told) {
    int in = open_temporary(), out = open_temporary(), err = open_temporary();
    feed(in, "from a file");
    testing_check(lseek(in, 0, SEEK_SET) == 0);
    ck_assert_status(run_line("cat; echo err >&2",
                              OPTIONS(.in = MTASK_CMD_FD, .in_fd = in, .out = MTASK_CMD_FD,
                                      .out_fd = out, .err = MTASK_CMD_FD, .err_fd = err),
                              NULL),
                     MTASK_OK);
    check_file(out, "from a file");
    check_file(err, "err\n");
    check_file(in, "from a file");
    out = open_temporary();
    ck_assert_status(run_line("echo a; echo b >&2",
                              OPTIONS(.in = MTASK_CMD_NULL, .out = MTASK_CMD_FD, .out_fd = out,
                                      .err = MTASK_CMD_TO_STDOUT),
                              NULL),
                     MTASK_OK);
    check_file(out, "a\nb\n");
    check_output(ARGV("cat"), OPTIONS(.capture = true, .in = MTASK_CMD_NULL), "", "");
    check_output(ARGV("sh", "-c", "echo lost; echo kept >&2"),
                 OPTIONS(.out = MTASK_CMD_NULL, .err = MTASK_CMD_PIPE), "", "kept\n");
    check_output(ARGV("sh", "-c", "echo kept; echo lost >&2"),
                 OPTIONS(.out = MTASK_CMD_PIPE, .err = MTASK_CMD_NULL), "kept\n", "");
}
END_TEST

/* The standard descriptors of a test, while others are in their places. */
static int saved[3];

static void save_standard(void) {
    for (int fd = 0; fd < 3; fd++)
        testing_check((saved[fd] = fcntl(fd, F_DUPFD_CLOEXEC, 50)) >= 50);
}

static void restore_standard(void) {
    for (int fd = 0; fd < 3; fd++)
        testing_check(dup2(saved[fd], fd) == fd && close(saved[fd]) == 0);
}

START_TEST(what_is_not_told_is_inherited) {
    int in = open_temporary(), out = open_temporary(), err = open_temporary();
    mtask_status status;
    feed(in, "input");
    testing_check(lseek(in, 0, SEEK_SET) == 0);
    save_standard();
    testing_check(dup2(in, 0) == 0 && dup2(out, 1) == 1 && dup2(err, 2) == 2);
    status = run_line("cat; echo err >&2", NULL, NULL);
    restore_standard();
    ck_assert_status(status, MTASK_OK);
    check_file(out, "input");
    check_file(err, "err\n");
    testing_check(close(in) == 0);
}
END_TEST

START_TEST(standard_descriptors_can_change_places) {
    int in = open_temporary(), out = open_temporary(), err = open_temporary();
    mtask_status status, other;
    feed(err, "input");
    testing_check(lseek(err, 0, SEEK_SET) == 0);
    save_standard();
    testing_check(dup2(in, 0) == 0 && dup2(out, 1) == 1 && dup2(err, 2) == 2);
    status = run_line("cat; echo err >&2", /* 0 from 2, 1 to 0, 2 to 1 */
                      OPTIONS(.in = MTASK_CMD_FD, .in_fd = 2, .out = MTASK_CMD_FD, .out_fd = 0,
                              .err = MTASK_CMD_FD, .err_fd = 1),
                      NULL);
    testing_check(lseek(err, 0, SEEK_END) == 5);
    other =
        run_line("echo out; echo err >&2",
                 OPTIONS(.out = MTASK_CMD_FD, .out_fd = 2, .err = MTASK_CMD_FD, .err_fd = 1), NULL);
    restore_standard();
    ck_assert_status(status, MTASK_OK);
    ck_assert_status(other, MTASK_OK);
    check_file(in, "input");
    check_file(out, "err\nerr\n");
    check_file(err, "inputout\n");
}
END_TEST

/* Closes some of the standard descriptors: bit N of `closed`. */
static void close_standard(unsigned closed) {
    save_standard();
    for (int fd = 0; fd < 3; fd++)
        if ((closed >> fd & 1) != 0)
            testing_check(close(fd) == 0);
}

START_TEST(pipes_work_when_standard_descriptors_are_closed) {
    for (unsigned closed = 0; closed < 8; closed++) {
        mtask_cmd_result result;
        mtask_status status;
        close_standard(closed);
        status = run_line("cat; echo err >&2",
                          OPTIONS(.input = "input", .input_size = 5, .capture = true), &result);
        restore_standard();
        ck_assert_status(status, MTASK_OK);
        check_text(&result.out, "input");
        check_text(&result.err, "err\n");
        mtask_cmd_result_free(&result);
    }
}
END_TEST

START_TEST(pipes_do_not_take_the_places_of_standard_descriptors) {
    mtask_cmd *cmd = NULL;
    mtask_status status;
    close_standard(7);
    status = mtask_cmd_start(&cmd, ARGV("cat"), OPTIONS(.in = MTASK_CMD_PIPE, .capture = true));
    restore_standard();
    ck_assert_status(status, MTASK_OK);
    ck_assert_int_gt(mtask_cmd_stdin(cmd), 2);
    ck_assert_int_gt(mtask_cmd_stdout(cmd), 2);
    ck_assert_int_gt(mtask_cmd_stderr(cmd), 2);
    mtask_cmd_destroy(cmd);
}
END_TEST

START_TEST(the_ends_of_a_command_block_as_programs_expect) {
    mtask_cmd_result result;
    char *line;
    int lines = 0;
    ck_assert_status(mtask_cmd_run(ARGV("grep", "-h", "flags:", "/proc/self/fdinfo/0",
                                        "/proc/self/fdinfo/1", "/proc/self/fdinfo/2"),
                                   OPTIONS(.input = "", .capture = true), &result),
                     MTASK_OK);
    for (line = strtok(result.out.data, "\n"); line != NULL; line = strtok(NULL, "\n"), lines++)
        ck_assert_int_eq(strtol(line + strlen("flags:"), NULL, 8) & O_NONBLOCK, 0);
    ck_assert_int_eq(lines, 3);
    mtask_cmd_result_free(&result);
}
END_TEST

/* ---- what else they inherit ---- */

START_TEST(it_inherits_the_descriptors_that_are_named_and_no_other_ones) {
    int file = open_temporary(), fds[2] = {101, 203};
    feed(file, "text");
    testing_check(dup2(file, 100) == 100 && dup2(file, 200) == 200); /* not close-on-exec */
    testing_check(dup3(file, 101, O_CLOEXEC) == 101 && dup2(file, 203) == 203);
    check_output(ARGV("ls", "/proc/self/fd"), OPTIONS(.capture = true), "0\n1\n2\n3\n", "");
    check_output(ARGV("ls", "/proc/self/fd"), OPTIONS(.capture = true, .fds = fds, .fd_count = 2),
                 "0\n1\n101\n2\n203\n3\n", "");
    testing_check(lseek(file, 0, SEEK_SET) == 0);
    check_output(ARGV("cat", "/dev/fd/101"), OPTIONS(.capture = true, .fds = fds, .fd_count = 1),
                 "text", "");
    ck_assert_int_eq(fcntl(101, F_GETFD), FD_CLOEXEC);
    ck_assert_int_eq(fcntl(203, F_GETFD), 0);
    testing_check(close(203) == 0);
    check_refused(ARGV("true"), OPTIONS(.fds = fds, .fd_count = 2), MTASK_INVALID, 0);
    check_refused(ARGV("true"), OPTIONS(.out = MTASK_CMD_FD, .out_fd = 203), MTASK_SYSTEM, EBADF);
}
END_TEST

/* Which signals (bit N - 1) a line of /proc/PID/status names. */
static unsigned long long signals_in(const char *status, const char *name) {
    const char *line = strstr(status, name);
    testing_check(line != NULL);
    return strtoull(line + strlen(name), NULL, 16);
}

static unsigned long long signal_bit(int number) {
    return 1ull << (number - 1);
}

START_TEST(signals_do_to_it_what_they_do_to_programs) {
    unsigned long long ignored;
    mtask_cmd_result result;
    sigset_t some, before;
    sigemptyset(&some);
    sigaddset(&some, SIGTERM);
    sigaddset(&some, SIGUSR1);
    testing_check(signal(SIGPIPE, SIG_IGN) != SIG_ERR);
    testing_check(signal(SIGHUP, SIG_IGN) != SIG_ERR); /* as nohup does */
    testing_check(pthread_sigmask(SIG_BLOCK, &some, &before) == 0);
    ck_assert_status(
        mtask_cmd_run(ARGV("cat", "/proc/self/status"), OPTIONS(.capture = true), &result),
        MTASK_OK);
    ck_assert_uint_eq(signals_in(result.out.data, "SigBlk:"), 0);
    ignored = signals_in(result.out.data, "SigIgn:");
    ck_assert((ignored & signal_bit(SIGPIPE)) == 0);
    ck_assert((ignored & signal_bit(SIGHUP)) != 0);
    mtask_cmd_result_free(&result);
    check_code("kill -TERM $$; exit 1", -SIGTERM);
    check_code("kill -PIPE $$; exit 1", -SIGPIPE);
    testing_check(pthread_sigmask(SIG_SETMASK, NULL, &some) == 0);
    ck_assert_int_eq(sigismember(&some, SIGTERM), 1); /* the caller's is as it was */
    ck_assert_int_eq(sigismember(&some, SIGINT), sigismember(&before, SIGINT));
}
END_TEST

/* Fails the test unless a process is in the group and session of these numbers. */
static void check_place(pid_t pid, pid_t group, pid_t session) {
    ck_assert_int_eq(getpgid(pid), group);
    ck_assert_int_eq(getsid(pid), session);
}

START_TEST(a_command_has_a_group_or_a_session_of_its_own_if_it_is_asked_for) {
    mtask_cmd *plain = start_sleep(NULL), *group = start_sleep(OPTIONS(.group = true));
    mtask_cmd *session = start_sleep(OPTIONS(.session = true));
    check_place(mtask_cmd_pid(plain), getpgid(0), getsid(0));
    check_place(mtask_cmd_pid(group), mtask_cmd_pid(group), getsid(0));
    check_place(mtask_cmd_pid(session), mtask_cmd_pid(session), mtask_cmd_pid(session));
    mtask_cmd_destroy(plain);
    mtask_cmd_destroy(group);
    mtask_cmd_destroy(session);
    check_no_child();
}
END_TEST

/* Fails the test unless a command that is run so has a group of its own, or not. */
static void check_own_group(const mtask_cmd_opts *opts, bool own) {
    mtask_cmd_result result;
    long pid = 0, group = 0;
    ck_assert_status(run_line("read pid name state parent group rest </proc/$$/stat;"
                              "echo $pid $group",
                              opts, &result),
                     MTASK_OK);
    ck_assert_int_eq(sscanf(result.out.data, "%ld %ld", &pid, &group), 2);
    ck_assert_int_eq(group, own ? pid : getpgid(0));
    mtask_cmd_result_free(&result);
}

START_TEST(what_may_be_killed_is_run_in_a_group_of_its_own) {
    check_own_group(OPTIONS(.capture = true), false);
    check_own_group(OPTIONS(.capture = true, .timeout = LONG), true);
    check_own_group(OPTIONS(.capture = true, .limit = 1000), true);
    check_own_group(OPTIONS(.capture = true, .group = true), true);
}
END_TEST

/* ---- time-outs ---- */

/* Fails the test unless the line is stopped by a time-out; what it had written. */
static mtask_buf run_for(const char *line, const mtask_cmd_opts *opts, int64_t timeout) {
    mtask_cmd_opts limited = *opts;
    mtask_cmd_result result;
    int64_t start = mtask_now();
    limited.timeout = timeout;
    memset(&result, 0xA5, sizeof result);
    ck_assert_status(run_line(line, &limited, &result), MTASK_TIMEOUT);
    ck_assert_int_ge(mtask_now() - start, timeout);
    mtask_buf_free(&result.err);
    check_no_child();
    return result.out;
}

/* Fails the test unless the line is stopped by a time-out, and has not written anything. */
static void run_in_silence(const char *line, const mtask_cmd_opts *opts) {
    mtask_buf out = run_for(line, opts, MTASK_MS(20));
    ck_assert_uint_eq(out.size, 0);
    mtask_buf_free(&out);
}

/* The same of a line that writes something, and has the time for that; what it was. */
static mtask_buf run_until_written(const char *line) {
    for (int64_t timeout = MTASK_MS(40);; timeout *= 2) {
        mtask_buf out = run_for(line, OPTIONS(.capture = true), timeout);
        if (out.size > 0)
            return out;
        mtask_buf_free(&out);
    }
}

static void *run_too_long(void *arg) {
    unsigned char *much = make_much();
    mtask_buf out = run_until_written("trap '' TERM; echo begun; while :; do sleep 1; done");
    check_text(&out, "begun\n");
    mtask_buf_free(&out);
    run_in_silence("exec sleep 1000", OPTIONS(.capture = false));
    run_in_silence("exec sleep 1000", /* it reads nothing */
                   OPTIONS(.input = much, .input_size = MUCH, .capture = true));
    run_in_silence("exec >&- 2>&-; sleep 1000", OPTIONS(.capture = true));
    check_output(ARGV("echo", "quick"), OPTIONS(.capture = true, .timeout = LONG), "quick\n", "");
    free(much);
    return arg;
}

START_TEST(a_command_that_takes_too_long_is_killed) {
    everywhere(run_too_long, NULL);
}
END_TEST

static void *kill_families(void *arg) {
    mtask_buf out = run_until_written("sleep 1000 & echo $!; wait");
    await_gone(read_pid(&out));
    mtask_buf_free(&out);
    return arg;
}

START_TEST(with_it_all_is_killed_that_it_has_started) {
    everywhere(kill_families, NULL);
}
END_TEST

/* The command itself ends; what it has started holds the pipe. */
static void *kill_orphans(void *arg) {
    mtask_buf out = run_until_written("sleep 1000 & echo $!");
    await_gone(read_pid(&out));
    mtask_buf_free(&out);
    return arg;
}

START_TEST(what_it_has_left_behind_is_killed_when_the_time_is_up) {
    everywhere(kill_orphans, NULL);
}
END_TEST

START_TEST(a_time_out_does_not_wait_for_what_has_left_the_group) {
    mtask_buf out = run_until_written("setsid sh -c 'echo $$; exec sleep 1000' & wait");
    pid_t pid = read_pid(&out);
    ck_assert(!is_gone(pid));
    testing_check(kill(pid, SIGKILL) == 0);
    mtask_buf_free(&out);
}
END_TEST

/* ---- commands that run ---- */

static void *talk(void *arg) {
    mtask_cmd *cmd = start(ARGV("cat"), OPTIONS(.in = MTASK_CMD_PIPE, .out = MTASK_CMD_PIPE));
    char text[16] = "";
    size_t count = 0;
    int in = mtask_cmd_stdin(cmd), out = mtask_cmd_stdout(cmd);
    ck_assert(in >= 0 && out >= 0 && in != out);
    ck_assert_int_eq(mtask_cmd_stderr(cmd), -1);
    ck_assert_int_gt(mtask_cmd_pid(cmd), 1);
    for (int i = 0; i < 3; i++) {
        ck_assert_status(mtask_io_write(in, "ping", 4, NULL, LONG), MTASK_OK);
        ck_assert_status(mtask_io_read(out, text, sizeof text, &count, LONG), MTASK_OK);
        ck_assert_uint_eq(count, 4);
        ck_assert_str_eq(text, "ping");
    }
    ck_assert_status(mtask_cmd_poll(cmd, NULL), MTASK_TIMEOUT);
    mtask_cmd_close_stdin(cmd);
    mtask_cmd_close_stdin(cmd);
    ck_assert_int_eq(mtask_cmd_stdin(cmd), -1);
    ck_assert_status(mtask_io_read(out, text, sizeof text, &count, LONG), MTASK_CLOSED);
    ck_assert_int_eq(code_of(cmd), 0);
    mtask_cmd_destroy(cmd);
    check_no_child();
    return arg;
}

START_TEST(one_can_talk_to_a_command_through_its_pipes) {
    everywhere(talk, NULL);
}
END_TEST

static void *await_end(void *arg) {
    mtask_cmd *cmd = start(ARGV("sh", "-c", "read line; exit 5"), OPTIONS(.in = MTASK_CMD_PIPE));
    int64_t begin = mtask_now();
    int code = 77;
    ck_assert_status(mtask_cmd_poll(cmd, &code), MTASK_TIMEOUT);
    ck_assert_status(mtask_cmd_wait(cmd, &code, MTASK_MS(20)), MTASK_TIMEOUT);
    ck_assert_int_ge(mtask_now() - begin, MTASK_MS(20));
    ck_assert_status(mtask_io_write(mtask_cmd_stdin(cmd), "\n", 1, NULL, LONG), MTASK_OK);
    ck_assert_int_eq(code_of(cmd), 5);
    ck_assert_int_eq(code_of(cmd), 5); /* again */
    ck_assert_status(mtask_cmd_poll(cmd, &code), MTASK_OK);
    ck_assert_int_eq(code, 5);
    ck_assert_status(mtask_cmd_wait(cmd, NULL, MTASK_NOWAIT), MTASK_OK);
    check_no_child();
    ck_assert_status(mtask_cmd_signal(cmd, SIGUSR1), MTASK_OK); /* nobody gets these */
    ck_assert_status(mtask_cmd_terminate(cmd), MTASK_OK);
    ck_assert_status(mtask_cmd_kill(cmd), MTASK_OK);
    ck_assert_int_eq(code_of(cmd), 5);
    mtask_cmd_destroy(cmd);
    return arg;
}

START_TEST(its_end_can_be_polled_and_waited_for_again_and_again) {
    everywhere(await_end, NULL);
}
END_TEST

static void *send_signals(void *arg) {
    mtask_cmd *first = start_sleep(NULL), *second = start_sleep(OPTIONS(.group = true));
    mtask_cmd *third = start_sleep(OPTIONS(.session = true));
    ck_assert_status(mtask_cmd_terminate(first), MTASK_OK);
    ck_assert_status(mtask_cmd_kill(second), MTASK_OK);
    ck_assert_status(mtask_cmd_signal(third, SIGUSR1), MTASK_OK);
    ck_assert_int_eq(code_of(first), -SIGTERM);
    ck_assert_int_eq(code_of(second), -SIGKILL);
    ck_assert_int_eq(code_of(third), -SIGUSR1);
    mtask_cmd_destroy(first);
    mtask_cmd_destroy(second);
    mtask_cmd_destroy(third);
    return arg;
}

START_TEST(signals_end_a_command) {
    everywhere(send_signals, NULL);
}
END_TEST

/* Starts a command that starts another one and waits for it; *child is that one. */
static mtask_cmd *start_family(bool group, pid_t *child) {
    mtask_cmd *cmd = start(ARGV("sh", "-c", "sleep 1000 & echo $!; wait"),
                           OPTIONS(.out = MTASK_CMD_PIPE, .group = group));
    *child = receive_pid(cmd);
    return cmd;
}

START_TEST(signals_reach_a_group_if_it_has_one) {
    pid_t child, alone;
    mtask_cmd *family = start_family(true, &child), *single = start_family(false, &alone);
    ck_assert_status(mtask_cmd_terminate(family), MTASK_OK);
    ck_assert_int_eq(code_of(family), -SIGTERM);
    await_gone(child);
    ck_assert_status(mtask_cmd_terminate(single), MTASK_OK);
    ck_assert_int_eq(code_of(single), -SIGTERM);
    ck_assert(!is_gone(alone));
    testing_check(kill(alone, SIGKILL) == 0);
    mtask_cmd_destroy(family);
    mtask_cmd_destroy(single);
}
END_TEST

static void *destroy_some(void *arg) {
    pid_t child, pid;
    mtask_cmd *cmd = start_family(true, &child);
    pid = mtask_cmd_pid(cmd);
    mtask_cmd_destroy(cmd);
    ck_assert_int_eq(kill(pid, 0), -1);
    await_gone(child);
    cmd = start_sleep(OPTIONS(.in = MTASK_CMD_PIPE, .capture = true));
    ck_assert_status(mtask_cmd_signal(cmd, SIGSTOP), MTASK_OK);
    pid = mtask_cmd_pid(cmd);
    mtask_cmd_destroy(cmd);
    ck_assert_int_eq(kill(pid, 0), -1);
    cmd = start(ARGV("true"), NULL);
    await_gone(mtask_cmd_pid(cmd));
    mtask_cmd_destroy(cmd); /* which had ended, and nobody had waited */
    check_no_child();
    return arg;
}

START_TEST(a_command_that_is_destroyed_is_killed_and_reaped) {
    everywhere(destroy_some, NULL);
}
END_TEST

/* ---- communicate ---- */

static void *communicate(void *arg) {
    unsigned char *much = make_much();
    mtask_cmd *cmd = start(ARGV("tee", "/dev/stderr"), OPTIONS(.input = "", .capture = true));
    mtask_cmd_result result;
    memset(&result, 0xA5, sizeof result);
    ck_assert_status(mtask_cmd_communicate(cmd, much, MUCH, 0, &result, LONG), MTASK_OK);
    check_much(&result.out);
    check_much(&result.err);
    ck_assert_int_eq(result.code, 0);
    mtask_cmd_result_free(&result);
    ck_assert_int_eq(code_of(cmd), 0);
    mtask_cmd_destroy(cmd);
    cmd = start(ARGV("sh", "-c", "cat; exit 3"), OPTIONS(.in = MTASK_CMD_PIPE, .capture = true));
    ck_assert_status(mtask_cmd_communicate(cmd, "text", 4, 0, NULL, LONG), MTASK_OK);
    ck_assert_int_eq(code_of(cmd), 3);
    mtask_cmd_destroy(cmd);
    free(much);
    return arg;
}

START_TEST(communicate_feeds_and_captures_to_the_end) {
    everywhere(communicate, NULL);
}
END_TEST

static void *communicate_in_pieces(void *arg) {
    unsigned char *much = make_much();
    mtask_cmd *cmd = start(ARGV("sh", "-c", "echo begun >&2; sleep 0.1; cat; echo ended >&2"),
                           OPTIONS(.in = MTASK_CMD_PIPE, .capture = true));
    mtask_cmd_result result;
    mtask_status status;
    int times = 0;
    while ((status = mtask_cmd_communicate(cmd, much, MUCH, 0, &result, MTASK_MS(3))) ==
           MTASK_TIMEOUT) {
        ck_assert_uint_eq(result.out.size + result.err.size, 0);
        mtask_cmd_result_free(&result);
        times++;
    }
    ck_assert_status(status, MTASK_OK);
    ck_assert_int_gt(times, 0);
    check_much(&result.out);
    check_text(&result.err, "begun\nended\n");
    mtask_cmd_result_free(&result);
    mtask_cmd_destroy(cmd);
    free(much);
    return arg;
}

START_TEST(when_the_time_is_up_nothing_is_lost) {
    everywhere(communicate_in_pieces, NULL);
}
END_TEST

static void *communicate_with_limit(void *arg) {
    mtask_cmd *cmd = start(ARGV("yes"), OPTIONS(.capture = true));
    mtask_cmd_result result;
    ck_assert_status(mtask_cmd_communicate(cmd, NULL, 0, 1000, &result, LONG), MTASK_OVERFLOW);
    ck_assert_uint_eq(result.out.size, 1000);
    ck_assert_int_eq(strncmp(result.out.data, "y\ny\n", 4), 0);
    mtask_cmd_result_free(&result);
    ck_assert_status(mtask_cmd_poll(cmd, NULL), MTASK_TIMEOUT); /* it still runs */
    mtask_cmd_destroy(cmd);
    check_no_child();
    return arg;
}

START_TEST(communicate_stops_at_a_limit) {
    everywhere(communicate_with_limit, NULL);
}
END_TEST

static void *communicate_oddly(void *arg) {
    mtask_cmd *cmd = start(ARGV("echo", "late"), OPTIONS(.capture = true));
    mtask_cmd_result result;
    char c;
    ck_assert_int_eq(code_of(cmd), 0); /* it has ended; what it wrote is still to be had */
    ck_assert_status(mtask_cmd_communicate(cmd, NULL, 0, 0, &result, LONG), MTASK_OK);
    check_text(&result.out, "late\n");
    mtask_cmd_result_free(&result);
    mtask_cmd_destroy(cmd);
    cmd = start(ARGV("echo", "rest"), OPTIONS(.capture = true));
    ck_assert_status(mtask_io_read(mtask_cmd_stdout(cmd), &c, 1, NULL, LONG), MTASK_OK);
    ck_assert_status(mtask_cmd_communicate(cmd, NULL, 0, 0, &result, LONG), MTASK_OK);
    check_text(&result.out, "est\n");
    mtask_cmd_result_free(&result);
    mtask_cmd_destroy(cmd);
    cmd = start(ARGV("sh", "-c", "exit 4"), NULL); /* no pipes */
    ck_assert_status(mtask_cmd_communicate(cmd, NULL, 0, 0, &result, LONG), MTASK_OK);
    ck_assert_int_eq(result.code, 4);
    mtask_cmd_result_free(&result);
    mtask_cmd_destroy(cmd);
    return arg;
}

START_TEST(communicate_takes_what_is_left) {
    everywhere(communicate_oddly, NULL);
}
END_TEST

START_TEST(communicate_ends_what_was_too_slow_together_with_signals) {
    mtask_cmd *cmd = start(ARGV("sh", "-c",
                                "trap 'echo asked; exit 9' TERM; echo begun;"
                                "while :; do sleep 0.01; done"),
                           OPTIONS(.capture = true, .group = true));
    mtask_cmd_result result;
    ck_assert_status(mtask_cmd_communicate(cmd, NULL, 0, 0, &result, MTASK_MS(50)), MTASK_TIMEOUT);
    ck_assert_status(mtask_cmd_terminate(cmd), MTASK_OK);
    ck_assert_status(mtask_cmd_communicate(cmd, NULL, 0, 0, &result, LONG), MTASK_OK);
    ck_assert_int_eq(result.code, 9);
    check_text(&result.out, "begun\nasked\n");
    mtask_cmd_result_free(&result);
    mtask_cmd_destroy(cmd);
}
END_TEST

START_TEST(a_group_can_be_killed_whose_first_process_has_ended) {
    mtask_cmd *cmd =
        start(ARGV("sh", "-c", "sleep 1000 & echo $!"), OPTIONS(.capture = true, .group = true));
    mtask_cmd_result result;
    await_gone(mtask_cmd_pid(cmd));
    ck_assert_status(mtask_cmd_communicate(cmd, NULL, 0, 0, &result, MTASK_MS(20)), MTASK_TIMEOUT);
    ck_assert_status(mtask_cmd_kill(cmd), MTASK_OK);
    ck_assert_status(mtask_cmd_communicate(cmd, NULL, 0, 0, &result, LONG), MTASK_OK);
    ck_assert_int_eq(result.code, 0);
    await_gone(read_pid(&result.out));
    mtask_cmd_result_free(&result);
    mtask_cmd_destroy(cmd);
}
END_TEST

/* ---- tasks ---- */

static void *read_fifo(void *path) {
    check_output(ARGV("cat", (const char *)path), OPTIONS(.capture = true), "hello\n", "");
    return path;
}

static void *write_fifo(void *path) {
    check_output(ARGV("sh", "-c", "echo hello >\"$0\"", (const char *)path),
                 OPTIONS(.capture = true), "", "");
    return path;
}

static void *run_beside(void *path) {
    mtask_future *reader = go(read_fifo, path), *writer = go(write_fifo, path);
    (void)take(reader);
    return take(writer);
}

START_TEST(commands_of_several_tasks_run_at_the_same_time) {
    char path[320];
    open_folder();
    snprintf(path, sizeof path, "%s", path_of("fifo"));
    testing_check(mkfifo(path, 0600) == 0);
    (void)in_loop(run_beside, path);
    end_folder();
}
END_TEST

static void *echo_number(void *arg) {
    char text[16], wanted[17];
    snprintf(text, sizeof text, "%ld", (long)arg);
    snprintf(wanted, sizeof wanted, "%s\n", text);
    check_output(ARGV("echo", text), OPTIONS(.capture = true), wanted, "");
    return arg;
}

static void *run_many(void *arg) {
    mtask_future *futures[20];
    for (long i = 0; i < 20; i++)
        futures[i] = go(echo_number, (void *)i);
    for (long i = 0; i < 20; i++)
        ck_assert_int_eq((long)take(futures[i]), i);
    check_no_child();
    return arg;
}

START_TEST(each_task_gets_the_output_of_its_own_command) {
    (void)in_loop(run_many, NULL);
}
END_TEST

/* What a task that is cancelled finds. */
typedef struct victim {
    char path[320]; /* where its command writes its number */
    mtask_status status;
    mtask_cmd_result result;
} victim;

static void *run_victim(void *arg) {
    victim *self = (victim *)arg;
    const char *line = "echo said; echo $$ >\"$0\"; sleep 1000 & wait";
    self->status = mtask_cmd_run(ARGV("sh", "-c", line, self->path),
                                 OPTIONS(.capture = true, .group = true), &self->result);
    return arg;
}

/* The number that has been written to the file, once it is there. */
static pid_t await_pid(const char *path) {
    for (;; linger()) {
        long pid = 0;
        FILE *file = fopen(path, "r");
        bool whole = file != NULL && fscanf(file, "%ld", &pid) == 1 && fgetc(file) == '\n';
        if (file != NULL)
            fclose(file);
        if (whole)
            return (pid_t)pid;
    }
}

static void check_victim(victim *self, pid_t pid) {
    ck_assert_status(self->status, MTASK_CANCELED);
    check_text(&self->result.out, "said\n");
    mtask_cmd_result_free(&self->result);
    ck_assert_int_eq(kill(pid, 0), -1);
    check_no_child();
}

static void *cancel_run(void *arg) {
    victim self;
    mtask_future *future;
    pid_t pid;
    memset(&self, 0, sizeof self);
    snprintf(self.path, sizeof self.path, "%s", path_of("pid"));
    future = go(run_victim, &self);
    pid = await_pid(self.path);
    ck_assert_status(mtask_future_cancel(future), MTASK_OK);
    (void)take(future);
    check_victim(&self, pid);
    testing_check(unlink(self.path) == 0);
    ck_assert_status(mtask_with_timeout(MTASK_MS(100), run_victim, &self, NULL), MTASK_TIMEOUT);
    check_victim(&self, await_pid(self.path));
    return arg;
}

START_TEST(cancellation_kills_a_command_that_is_run) {
    open_folder();
    (void)in_loop(cancel_run, NULL);
    end_folder();
}
END_TEST

/* Is cancelled while it communicates, and goes on then. */
static void *communicate_shielded(void *arg) {
    mtask_cmd *cmd = (mtask_cmd *)arg;
    mtask_cmd_result result;
    ck_assert_status(mtask_cmd_communicate(cmd, "input", 5, 0, &result, LONG), MTASK_CANCELED);
    ck_assert_uint_eq(result.out.size, 0);
    ck_assert_status(mtask_cmd_wait(cmd, NULL, LONG), MTASK_CANCELED);
    mtask_shield_begin();
    ck_assert_status(mtask_cmd_communicate(cmd, "input", 5, 0, &result, LONG), MTASK_OK);
    mtask_shield_end();
    check_text(&result.out, "begun\ninputended\n");
    mtask_cmd_result_free(&result);
    mtask_cmd_destroy(cmd);
    return NULL;
}

static void *cancel_communicate(void *arg) {
    mtask_cmd *cmd = start(ARGV("sh", "-c", "echo begun; sleep 0.05; cat; echo ended"),
                           OPTIONS(.in = MTASK_CMD_PIPE, .capture = true));
    mtask_future *future = go(communicate_shielded, cmd);
    take_turns();
    take_turns();
    ck_assert_status(mtask_future_cancel(future), MTASK_OK);
    (void)take(future);
    return arg;
}

START_TEST(cancellation_takes_nothing_from_communicate) {
    (void)in_loop(cancel_communicate, NULL);
}
END_TEST

/* ---- threads ---- */

static void converse(testing_member *self) {
    char text[64];
    for (long i = 0; i < self->number; i++) {
        mtask_cmd *sleeper = start_sleep(NULL); /* would hold the pipes, if it got them */
        snprintf(text, sizeof text, "%d %ld", self->index, i);
        check_output(ARGV("cat"),
                     OPTIONS(.input = text, .input_size = strlen(text), .capture = true), text, "");
        mtask_cmd_destroy(sleeper);
    }
}

static void converse_in_crowd(testing_member *self) {
    self->number = testing_scale(40) < 4 ? 4 : testing_scale(40);
    converse(self);
}

START_TEST(commands_of_several_threads_do_not_meet) {
    testing_crowd crowd;
    testing_crowd_start(&crowd, 4, converse_in_crowd, NULL);
    testing_crowd_join(&crowd);
    check_no_child();
}
END_TEST

static void wait_for_command(testing_member *self) {
    self->number = code_of((mtask_cmd *)self->arg);
}

START_TEST(another_thread_may_signal_a_command_that_is_waited_for) {
    mtask_cmd *cmd = start_sleep(NULL);
    testing_crowd crowd;
    testing_crowd_start(&crowd, 1, wait_for_command, cmd);
    testing_await_asleep(&crowd.members[0]);
    ck_assert_status(mtask_cmd_terminate(cmd), MTASK_OK);
    testing_crowd_join(&crowd);
    ck_assert_int_eq(crowd.members[0].number, -SIGTERM);
    mtask_cmd_destroy(cmd);
}
END_TEST

static void read_until_written(testing_member *self) {
    check_output(ARGV("cat", (const char *)self->arg), OPTIONS(.capture = true, .timeout = LONG),
                 "word", "");
}

START_TEST(signals_of_the_caller_interrupt_nothing) {
    testing_crowd crowd;
    char path[320];
    int fd;
    open_folder();
    snprintf(path, sizeof path, "%s", path_of("fifo"));
    testing_check(mkfifo(path, 0600) == 0);
    testing_catch_signals();
    testing_crowd_start(&crowd, 1, read_until_written, path);
    testing_interrupt(&crowd.members[0]);
    fd = open(path, O_WRONLY | O_CLOEXEC);
    testing_check(fd >= 0);
    feed(fd, "word");
    testing_check(close(fd) == 0);
    testing_crowd_join(&crowd);
    end_folder();
}
END_TEST

/* ---- what is left behind ---- */

/* Everything that a command can come to. */
static void *run_all_kinds(void *arg) {
    const mtask_cmd_opts *opts = OPTIONS(.input = "x", .input_size = 1, .capture = true);
    mtask_cmd *cmd;
    check_output(ARGV("cat"), opts, "x", "");
    check_output(ARGV("true"), NULL, "", "");
    check_refused(ARGV("/no/such/program"), opts, MTASK_NOT_FOUND, 0);
    ck_assert_status(mtask_cmd_run(ARGV("sleep", "1000"),
                                   OPTIONS(.capture = true, .timeout = MTASK_MS(1)), NULL),
                     MTASK_TIMEOUT);
    ck_assert_status(mtask_cmd_run(ARGV("yes"), OPTIONS(.capture = true, .limit = 10), NULL),
                     MTASK_OVERFLOW);
    cmd = start(ARGV("cat"), opts);
    ck_assert_status(mtask_cmd_communicate(cmd, "x", 1, 0, NULL, LONG), MTASK_OK);
    mtask_cmd_destroy(cmd);
    mtask_cmd_destroy(start_sleep(opts));
    return arg;
}

static void *run_all_kinds_often(void *arg) {
    long rounds = testing_scale(30) < 3 ? 3 : testing_scale(30);
    int before;
    (void)run_all_kinds(NULL);
    before = count_fds();
    for (long i = 0; i < rounds; i++)
        (void)run_all_kinds(NULL);
    ck_assert_int_eq(count_fds(), before);
    check_no_child();
    return arg;
}

START_TEST(commands_leave_no_descriptors_and_no_children_behind) {
    everywhere(run_all_kinds_often, NULL);
}
END_TEST

START_TEST(where_nobody_may_take_note_of_children_commands_are_still_run) {
    mtask_cmd_result result;
    testing_check(signal(SIGCHLD, SIG_IGN) != SIG_ERR); /* the system reaps them at once */
    for (int i = 0; i < 2; i++) {
        const mtask_cmd_opts *opts = OPTIONS(.capture = true, .timeout = i == 0 ? 0 : LONG);
        ck_assert_status(mtask_cmd_run(ARGV("echo", "text"), opts, &result), MTASK_OK);
        check_text(&result.out, "text\n");
        mtask_cmd_result_free(&result);
    }
    mtask_cmd_destroy(start_sleep(NULL));
}
END_TEST

START_TEST(in_a_forked_child_a_command_is_not_its_own) {
    mtask_cmd *cmd = start_sleep(OPTIONS(.in = MTASK_CMD_PIPE));
    int status, code;
    pid_t pid = fork_child();
    if (pid == 0) {
        mtask_status answer = mtask_cmd_kill(cmd);
        IN_CHILD(answer == MTASK_INVALID || answer == MTASK_BROKEN);
        answer = mtask_cmd_poll(cmd, &code);
        IN_CHILD(answer == MTASK_INVALID || answer == MTASK_BROKEN);
        answer = mtask_cmd_wait(cmd, &code, LONG);
        IN_CHILD(answer == MTASK_INVALID || answer == MTASK_BROKEN);
        mtask_cmd_destroy(cmd);
        IN_CHILD(mtask_cmd_run(ARGV("true"), OPTIONS(.check = true), NULL) == MTASK_OK);
        _exit(0);
    }
    testing_check(waitpid(pid, &status, 0) == pid);
    ck_assert_int_eq(status, 0);
    ck_assert_status(mtask_cmd_poll(cmd, &code), MTASK_TIMEOUT);
    mtask_cmd_destroy(cmd);
    check_no_child();
}
END_TEST

TESTING_MAIN(
    "cmd", the_code_of_a_command_is_its_exit_code_or_its_signal,
    a_code_that_is_not_0_is_a_failure_only_if_it_is_checked, what_is_not_there_is_not_found,
    errno_says_why_the_system_refuses_to_run_it, what_makes_no_sense_is_invalid,
    without_descriptors_it_is_refused_and_leaves_nothing_behind,
    arguments_arrive_as_they_are_and_reach_a_shell_only_if_asked,
    a_command_has_the_environment_it_is_given_and_else_the_callers,
    the_program_is_looked_for_in_the_path_of_its_own_environment,
    a_command_runs_in_the_folder_it_is_told, input_is_fed_and_output_captured_apart_or_in_one,
    both_sides_may_write_more_than_pipes_hold, input_that_is_not_read_is_dropped,
    a_command_that_writes_more_than_the_limit_is_killed, input_and_output_go_where_they_are_told,
    what_is_not_told_is_inherited, standard_descriptors_can_change_places,
    pipes_work_when_standard_descriptors_are_closed,
    pipes_do_not_take_the_places_of_standard_descriptors,
    the_ends_of_a_command_block_as_programs_expect,
    it_inherits_the_descriptors_that_are_named_and_no_other_ones,
    signals_do_to_it_what_they_do_to_programs,
    a_command_has_a_group_or_a_session_of_its_own_if_it_is_asked_for,
    what_may_be_killed_is_run_in_a_group_of_its_own, a_command_that_takes_too_long_is_killed,
    with_it_all_is_killed_that_it_has_started,
    what_it_has_left_behind_is_killed_when_the_time_is_up,
    a_time_out_does_not_wait_for_what_has_left_the_group,
    one_can_talk_to_a_command_through_its_pipes,
    its_end_can_be_polled_and_waited_for_again_and_again, signals_end_a_command,
    signals_reach_a_group_if_it_has_one, a_command_that_is_destroyed_is_killed_and_reaped,
    communicate_feeds_and_captures_to_the_end, when_the_time_is_up_nothing_is_lost,
    communicate_stops_at_a_limit, communicate_takes_what_is_left,
    communicate_ends_what_was_too_slow_together_with_signals,
    a_group_can_be_killed_whose_first_process_has_ended,
    commands_of_several_tasks_run_at_the_same_time, each_task_gets_the_output_of_its_own_command,
    cancellation_kills_a_command_that_is_run, cancellation_takes_nothing_from_communicate,
    commands_of_several_threads_do_not_meet, another_thread_may_signal_a_command_that_is_waited_for,
    signals_of_the_caller_interrupt_nothing, commands_leave_no_descriptors_and_no_children_behind,
    where_nobody_may_take_note_of_children_commands_are_still_run,
    in_a_forked_child_a_command_is_not_its_own)
