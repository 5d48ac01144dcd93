// mkdir -p build && cc -O2 -pthread -I. -o build/27_poll_queue examples/27_poll_queue.c
//
// A loop around poll() that serves a queue beside other descriptors, here a pipe: as long as the
// queue's descriptor is not readable, there is nothing in the queue. So threads feed a program that
// already has its loop, and the loop sleeps while there is nothing to do.
//
// Output (in order by first word):
//   queue: 1
//   queue: 4
//   queue: 9
//   queue: 16
//   queue: 25
//   queue: closed
//   pipe: a
//   pipe: b
//   pipe: c
//   pipe: closed
#define MTASK_IMPLEMENTATION
#include "mtask_queue.h"
#include "common.h"
#include <poll.h>
#include <unistd.h>

MTASK_QUEUE_TYPE(numbers, int);

static numbers queue;
static int ends[2]; /* of the pipe: to read from, to write to */

static void *put_squares(void *arg) {
    (void)arg;
    for (int i = 1; i <= 5; i++) {
        MUST(mtask_sleep(seconds(0.3)));
        MUST(numbers_put(&queue, i * i, MTASK_FOREVER));
    }
    MUST(numbers_close(&queue));
    return NULL;
}

static void *write_letters(void *arg) {
    (void)arg;
    for (const char *letter = "abc"; *letter != '\0'; letter++) {
        MUST(mtask_sleep(seconds(0.5)));
        MUST(write(ends[1], letter, 1) == 1 ? MTASK_OK : MTASK_SYSTEM);
    }
    close(ends[1]);
    return NULL;
}

/* Takes all there is. Returns whether more can come. */
static bool serve_queue(void) {
    int number;
    mtask_status status;
    while ((status = numbers_get(&queue, &number, MTASK_NOWAIT)) == MTASK_OK)
        printf("queue: %d\n", number);
    if (status == MTASK_CLOSED)
        printf("queue: closed\n");
    return status == MTASK_EMPTY;
}

static bool serve_pipe(void) {
    char letter;
    bool open = read(ends[0], &letter, 1) == 1;
    if (open)
        printf("pipe: %c\n", letter);
    else
        printf("pipe: closed\n");
    return open;
}

int main(void) {
    MUST(numbers_init(&queue, 2));
    MUST(pipe(ends) == 0 ? MTASK_OK : MTASK_SYSTEM);
    struct pollfd fds[2] = {{.events = POLLIN}, {.fd = ends[0], .events = POLLIN}};
    MUST(numbers_pollfd(&queue, &fds[0].fd));
    MUST(mtask_thread_spawn(put_squares, NULL));
    MUST(mtask_thread_spawn(write_letters, NULL));

    while (fds[0].fd >= 0 || fds[1].fd >= 0) {
        MUST(poll(fds, 2, -1) > 0 ? MTASK_OK : MTASK_SYSTEM);
        if (fds[0].revents != 0 && !serve_queue())
            fds[0].fd = -1; /* poll passes over it */
        if (fds[1].revents != 0 && !serve_pipe())
            fds[1].fd = -1;
    }
    MUST(mtask_thread_join_all(MTASK_FOREVER));
    close(ends[0]);
    MUST(numbers_deinit(&queue));
    return 0;
}
