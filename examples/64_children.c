// mkdir -p build && cc -O2 -pthread -I. -o build/64_children examples/64_children.c
//
// Child processes as something to wait for, as asyncio's create_subprocess_exec and communicate:
// seven commands run at the same time, each looked after by a task. Its output comes through a
// stream; its input is written by another task, so that a command which reads and writes much
// cannot hang. Each has its limit of time; when that is over, or the task is cancelled, it is
// killed.
//
// Output (any order):
//   echo: "hello", exit code 0
//   sort: "1 2 3", exit code 0
//   wc: "1000000", exit code 0
//   fails: "", exit code 3
//   dies: "", signal 9
//   hangs: "", MTASK_TIMEOUT, signal 9
//   none: MTASK_SYSTEM, No such file or directory
//   in all 1.003 seconds
#define MTASK_IMPLEMENTATION
#include "mtask_io.h"
#include "common.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

typedef struct Command {
    const char *name, *argv[4];
    const char *input; /* for it; NULL: a million bytes */
    double limit;      /* seconds; 0: none */
    int in;            /* through which the input is written */
} Command;

static Command commands[] = {
    {.name = "echo", .argv = {"echo", "hello"}, .input = ""},
    {.name = "sort", .argv = {"sh", "-c", "sort | xargs"}, .input = "2\n3\n1\n"},
    {.name = "wc", .argv = {"sh", "-c", "cat | wc -c | tr -d ' '"}},
    {.name = "fails", .argv = {"sh", "-c", "exit 3"}, .input = ""},
    {.name = "dies", .argv = {"sh", "-c", "kill -9 $$"}, .input = ""},
    {.name = "hangs", .argv = {"sleep", "1000"}, .input = "", .limit = 1},
    {.name = "none", .argv = {"/no/such/program"}, .input = ""}};

enum { COMMANDS = sizeof commands / sizeof *commands };

/* Starts it with a pipe to its input and one from its output: our ends are in[1] and out[0]. (They
   are not mtask_io_pipe's: the child's ends must be such that block, as programs expect.) */
static int spawn(const Command *command, pid_t *pid, int in[2], int out[2]) {
    posix_spawn_file_actions_t actions;
    if (pipe2(in, O_CLOEXEC) != 0 || pipe2(out, O_CLOEXEC) != 0)
        return errno;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, in[0], STDIN_FILENO);
    posix_spawn_file_actions_adddup2(&actions, out[1], STDOUT_FILENO);
    int error =
        posix_spawnp(pid, command->argv[0], &actions, NULL, (char **)command->argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    close(in[0]);
    close(out[1]);
    return error;
}

static void *write_input(void *arg) {
    static const char much[1000000];
    const Command *command = (const Command *)arg;
    const char *input = command->input == NULL ? much : command->input;
    size_t size = command->input == NULL ? sizeof much : strlen(input);
    /* MTASK_BROKEN: it does not want to read it. */
    (void)mtask_io_write(command->in, input, size, NULL, MTASK_FOREVER);
    (void)mtask_io_close(command->in); /* the end of its input */
    return NULL;
}

/* Reads what it writes, up to the end; the last line of that is `text`. */
static mtask_status read_output(int fd, char *text, size_t capacity) {
    mtask_stream *stream;
    char *line;
    mtask_status status;
    MUST(mtask_stream_open(&stream, fd, NULL)); /* it is the stream's now */
    while ((status = mtask_stream_read_line(stream, &line, NULL, MTASK_FOREVER)) == MTASK_OK)
        snprintf(text, capacity, "%s", line);
    mtask_stream_destroy(stream);
    return status == MTASK_CLOSED ? MTASK_OK : status;
}

/* Looks after a running command; the return value is how its output ended, `result` how it did. */
static mtask_status communicate(Command *command, pid_t pid, int output, char *text,
                                size_t capacity, int *result) {
    mtask_taskgroup writer;
    mtask_limit limit;
    MUST(mtask_taskgroup_begin(&writer));
    MUST(mtask_taskgroup_go(&writer, write_input, command, NULL));
    MUST(mtask_limit_begin(&limit, command->limit > 0 ? seconds(command->limit) : MTASK_FOREVER));
    mtask_status status = read_output(output, text, capacity);
    if (mtask_limit_end(&limit) == MTASK_TIMEOUT)
        status = MTASK_TIMEOUT;
    if (status != MTASK_OK)
        kill(pid, SIGKILL);
    mtask_shield_begin(); /* it ends now; that must be waited for */
    MUST(mtask_child_wait(pid, result, MTASK_FOREVER));
    mtask_shield_end();
    (void)mtask_taskgroup_end(&writer, NULL);
    return status;
}

static void *run(void *arg) {
    Command *command = (Command *)arg;
    char text[100] = "";
    int in[2], out[2], result;
    pid_t pid;
    int error = spawn(command, &pid, in, out);
    if (error != 0) {
        printf("%s: MTASK_SYSTEM, %s\n", command->name, strerror(error));
        close(in[1]);
        close(out[0]);
        return NULL;
    }
    command->in = in[1];
    MUST(mtask_io_adopt(in[1])); /* mtask's own from now on, as is out[0] in its stream */
    mtask_status status = communicate(command, pid, out[0], text, sizeof text, &result);
    printf("%s: \"%s\", %s%s%s %d\n", command->name, text,
           status == MTASK_OK ? "" : mtask_status_name(status), status == MTASK_OK ? "" : ", ",
           WIFEXITED(result) ? "exit code" : "signal",
           WIFEXITED(result) ? WEXITSTATUS(result) : WTERMSIG(result));
    return NULL;
}

static void *program(void *arg) {
    mtask_call calls[COMMANDS];
    int64_t start = mtask_now();
    for (int i = 0; i < COMMANDS; i++)
        calls[i] = (mtask_call){run, &commands[i]};
    MUST(mtask_gather(calls, COMMANDS, NULL));
    printf("in all %.3f seconds\n", seconds_since(start));
    return arg;
}

int main(void) {
    MUST(mtask_loop_run(program, NULL, NULL));
    return 0;
}
