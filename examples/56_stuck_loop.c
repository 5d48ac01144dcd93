// mkdir -p build && cc -O2 -pthread -I. -o build/56_stuck_loop examples/56_stuck_loop.c
//
// Two polite tasks: each waits for the other's word before it says its own. That hangs for ever. But
// this loop was told that nothing from outside will ever wake its tasks (no_external_wakers): so when
// all of them wait, and no timer is left, it knows, and says who waits on what. Then each wait
// answers MTASK_DEADLOCK, and the tasks can end.
//
// Exit: 3
// Output (patterns):
//   ^all tasks wait for ever:$
//   Ann.*waiting
//   Ben.*waiting
//   ^Ann has heard nothing: MTASK_DEADLOCK$
//   ^Ben has heard nothing: MTASK_DEADLOCK$
//   ^the loop: MTASK_DEADLOCK, .*Ann
#define MTASK_IMPLEMENTATION
#include "mtask_queue.h"
#include "mtask_coro.h"
#include "common.h"
#include <unistd.h>

enum { EXIT_DEADLOCK = 3 };

MTASK_QUEUE_TYPE(words, const char *);

typedef struct Person {
    const char *name;
    words *ear, *mouth;
} Person;

static words to_ann, to_ben;
static Person ann = {"Ann", &to_ann, &to_ben}, ben = {"Ben", &to_ben, &to_ann};

static void *talk(void *arg) {
    const Person *person = (const Person *)arg;
    const char *word;
    mtask_status status = words_get(person->ear, &word, MTASK_FOREVER);
    if (status != MTASK_OK) {
        printf("%s has heard nothing: %s\n", person->name, mtask_status_name(status));
        return mtask_fail(status, "%s has heard nothing", person->name);
    }
    printf("%s has heard: %s\n", person->name, word);
    MUST(words_put(person->mouth, "hello", MTASK_FOREVER));
    return NULL;
}

static void *program(void *arg) {
    mtask_future *futures[2];
    mtask_go_desc descs[2] = {{.fn = talk, .arg = &ann, .name = "Ann", .future = &futures[0]},
                              {.fn = talk, .arg = &ben, .name = "Ben", .future = &futures[1]}};
    for (int i = 0; i < 2; i++)
        MUST(mtask_go_ex(&descs[i]));
    for (int i = 0; i < 2; i++) {
        (void)mtask_future_wait(futures[i], MTASK_FOREVER); /* this wait is told of it, too */
        mtask_future_release(futures[i]);
    }
    return arg;
}

static void report(mtask_loop *loop, void *ctx) {
    (void)ctx;
    printf("all tasks wait for ever:\n");
    fflush(stdout);
    MUST(mtask_loop_dump(loop, STDOUT_FILENO));
}

int main(void) {
    mtask_loop_desc desc = {.no_external_wakers = true, .on_deadlock = report};
    mtask_outcome outcome;
    MUST(words_init(&to_ann, 1));
    MUST(words_init(&to_ben, 1));
    mtask_status status = mtask_loop_run_ex(program, NULL, &outcome, &desc);
    printf("the loop: %s, %s\n", mtask_status_name(status), outcome.text);
    MUST(words_deinit(&to_ben));
    MUST(words_deinit(&to_ann));
    return status == MTASK_DEADLOCK ? EXIT_DEADLOCK : 1;
}
