// mkdir -p build && cc -O2 -pthread -I. -o build/68_reminders examples/68_reminders.c
//
// Reminders: a program that reads from its terminal, or a pipe, while other things happen. Type `3
// tea`, and three seconds later it says so; meanwhile you can type more. At the end of the input
// (Ctrl-D) it waits for what is left. The terminal belongs to the shell, too, so it is left as it
// is: it is read only when there is something. `build/68_reminders demo` types by itself, into a
// pipe.
//
// Output with demo:
//   in 3 s: tea
//   in 1 s: egg
//   1.0: egg
//   in 1 s: toast
//   what? (SECONDS TEXT)
//   2.5: toast
//   3.0: tea
#define MTASK_IMPLEMENTATION
#include "mtask_io.h"
#include "common.h"
#include <string.h>
#include <unistd.h>

typedef struct Reminder {
    double after; /* seconds */
    char text[100];
} Reminder;

static int64_t start;

static void *remind(void *arg) {
    Reminder *reminder = (Reminder *)arg;
    if (mtask_sleep(seconds(reminder->after)) == MTASK_OK)
        printf("%.1f: %s\n", seconds_since(start), reminder->text);
    free(reminder);
    return NULL;
}

static void obey(mtask_taskgroup *reminders, const char *line) {
    Reminder *reminder = (Reminder *)calloc(1, sizeof *reminder);
    MUST(reminder != NULL ? MTASK_OK : MTASK_NOMEM);
    if (sscanf(line, "%lf %99[^\n]", &reminder->after, reminder->text) == 2 &&
        reminder->after >= 0 && reminder->after < 1e6) {
        printf("in %g s: %s\n", reminder->after, reminder->text);
        MUST(mtask_taskgroup_go(reminders, remind, reminder, NULL));
    } else {
        printf("what? (SECONDS TEXT)\n");
        free(reminder);
    }
}

/* Takes whole lines out of the `size` bytes, and returns how many are left. */
static size_t obey_lines(mtask_taskgroup *reminders, char *bytes, size_t size) {
    char *line = bytes, *end;
    while ((end = (char *)memchr(line, '\n', (size_t)(bytes + size - line))) != NULL) {
        *end = '\0';
        obey(reminders, line);
        line = end + 1;
    }
    size -= (size_t)(line - bytes);
    memmove(bytes, line, size);
    return size;
}

static void *program(void *arg) {
    mtask_taskgroup reminders;
    char bytes[1000];
    size_t size = 0, n;
    start = mtask_now();
    MUST(mtask_taskgroup_begin(&reminders));
    while (mtask_io_read(STDIN_FILENO, bytes + size, sizeof bytes - 1 - size, &n, MTASK_FOREVER) ==
           MTASK_OK) {
        size = obey_lines(&reminders, bytes, size + n);
        if (size == sizeof bytes - 1)
            size = 0; /* that is no line */
    }
    bytes[size] = '\0';
    if (size > 0) /* a last line without an end */
        obey(&reminders, bytes);
    MUST(mtask_taskgroup_end(&reminders, NULL));
    return arg;
}

/* ---- typing, for a demonstration ---- */

static void *type(void *end) {
    static const struct {
        double after; /* seconds */
        const char *text;
    } typed[] = {{0, "3 tea\n1 egg\n"}, {1.5, "1 toa"}, {0, "st\nwhatever\n"}};
    for (int i = 0; i < 3; i++) {
        MUST(mtask_sleep(seconds(typed[i].after)));
        MUST(
            mtask_io_write(*(int *)end, typed[i].text, strlen(typed[i].text), NULL, MTASK_SEC(60)));
    }
    close(*(int *)end);
    return NULL;
}

int main(int argc, char **argv) {
    int ends[2];
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc > 1 && strcmp(argv[1], "demo") == 0) {
        MUST(pipe(ends) == 0 && dup2(ends[0], STDIN_FILENO) >= 0 ? MTASK_OK : MTASK_SYSTEM);
        close(ends[0]);
        MUST(mtask_thread_spawn(type, &ends[1]));
    }
    MUST(mtask_loop_run(program, NULL, NULL));
    MUST(mtask_thread_join_all(MTASK_FOREVER));
    return 0;
}
