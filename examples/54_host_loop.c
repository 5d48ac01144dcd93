// mkdir -p build && cc -O2 -pthread -I. -o build/54_host_loop examples/54_host_loop.c
//
// Tasks in a program that has a loop of its own, around poll(): it serves a pipe, and puts the
// descriptor of mtask's loop beside it. When that is readable, or a timer is due, one call runs the
// tasks that can go on. Both are done by one thread, which sleeps while neither has anything to do.
// (With epoll, glib or libuv it is the same: a descriptor to watch, and a function to call.)
//
// Output (in order by first word):
//   host: read a
//   host: read b
//   host: read c
//   host: the pipe is closed
//   task: a becomes A
//   task: b becomes B
//   task: c becomes C
//   host: no task is left
#define MTASK_IMPLEMENTATION
#include "mtask_coro.h"
#include "common.h"
#include <ctype.h>
#include <poll.h>
#include <unistd.h>

static int ends[2]; /* of the pipe: to read from, to write to */

static void *write_letters(void *arg) {
    for (const char *letter = "abc"; *letter != '\0'; letter++) {
        MUST(mtask_sleep(seconds(0.4)));
        MUST(write(ends[1], letter, 1) == 1 ? MTASK_OK : MTASK_SYSTEM);
    }
    close(ends[1]);
    return arg;
}

static void *capitalize(void *arg) {
    int letter = (int)(intptr_t)arg;
    MUST(mtask_sleep(seconds(1))); /* parks this task; the host goes on */
    printf("task: %c becomes %c\n", letter, toupper(letter));
    return NULL;
}

/* Starts a task for the next letter. Returns whether more can come. */
static bool serve_pipe(mtask_loop *loop) {
    char letter;
    bool open = read(ends[0], &letter, 1) == 1;
    if (open) {
        printf("host: read %c\n", letter);
        MUST(mtask_loop_go(loop, capitalize, (void *)(intptr_t)letter, NULL));
    } else {
        printf("host: the pipe is closed\n");
    }
    return open;
}

/* How long poll may sleep: until the next timer. (Only needed where the descriptor does not tell of
   timers, as it does with epoll.) */
static int patience(const mtask_loop *loop) {
    int64_t left = mtask_until(mtask_loop_next(loop));
    return left == MTASK_FOREVER ? -1 : (int)((left + MTASK_MS(1) - 1) / MTASK_MS(1));
}

static void serve(mtask_loop *loop) {
    struct pollfd fds[2] = {{.events = POLLIN}, {.fd = ends[0], .events = POLLIN}};
    MUST(mtask_loop_fd(loop, &fds[0].fd));
    while (fds[1].fd >= 0 || mtask_loop_pending(loop) > 0) {
        MUST(poll(fds, 2, patience(loop)) >= 0 ? MTASK_OK : MTASK_SYSTEM);
        if (fds[1].revents != 0 && !serve_pipe(loop))
            fds[1].fd = -1; /* poll passes over it */
        mtask_status status = mtask_loop_step(loop, MTASK_NOWAIT);
        if (status != MTASK_DONE && status != MTASK_TIMEOUT)
            MUST(status);
    }
    printf("host: no task is left\n");
}

int main(void) {
    mtask_loop *loop;
    MUST(pipe(ends) == 0 ? MTASK_OK : MTASK_SYSTEM);
    MUST(mtask_loop_create(&loop, NULL));
    MUST(mtask_thread_spawn(write_letters, NULL));
    serve(loop);
    MUST(mtask_loop_destroy(loop));
    MUST(mtask_thread_join_all(MTASK_FOREVER));
    close(ends[0]);
    return 0;
}
