// mkdir -p build && cc -O2 -pthread -I. -o build/52_cancel examples/52_cancel.c
//
// Ways to stop a task. Each has one effect: its waits answer MTASK_CANCELED, all of them, until it
// has returned. It is never stopped between two waits, so it can clean up as it returns.
//
// - A limit of time: around some calls, or around a function.
// - Somebody cancels its future. A shield lets its last waits go on, to finish what must be finished.
// - A task of its group fails: nobody needs the results of the others.
//
// Output:
//   limit: the sleep says MTASK_CANCELED, the end of the limit MTASK_TIMEOUT; 1.000 seconds
//   limit: MTASK_OK, the answer is 42; 0.500 seconds
//   worker: working
//   worker: it is over, MTASK_CANCELED; and again MTASK_CANCELED
//   worker: shielded, MTASK_OK; all is saved
//   cancel: the task has ended by MTASK_CANCELED, saved in time; 1.500 seconds
//   group: part 1 came
//   group: part 3 is stopped by MTASK_CANCELED
//   group: MTASK_FAILED, part 2 is damaged; 1.000 seconds
#define MTASK_IMPLEMENTATION
#include "mtask_coro.h"
#include "common.h"

/* ---- limits of time ---- */

static void *answer(void *arg) {
    if (mtask_sleep(seconds(0.5)) != MTASK_OK)
        return mtask_fail(MTASK_CANCELED, NULL);
    return arg;
}

static void show_limits(void) {
    mtask_limit limit;
    mtask_outcome outcome = {0};
    int64_t start = mtask_now();
    MUST(mtask_limit_begin(&limit, seconds(1))); /* async with asyncio.timeout(1): */
    mtask_status sleep = mtask_sleep(seconds(10)), end = mtask_limit_end(&limit);
    printf("limit: the sleep says %s, the end of the limit %s; %.3f seconds\n",
           mtask_status_name(sleep), mtask_status_name(end), seconds_since(start));

    start = mtask_now();
    end = mtask_with_timeout(seconds(5), answer, (void *)42, &outcome); /* asyncio.wait_for */
    printf("limit: %s, the answer is %d; %.3f seconds\n", mtask_status_name(end),
           (int)(intptr_t)outcome.value, seconds_since(start));
}

/* ---- cancelling a task ---- */

static void *work(void *arg) {
    (void)arg;
    printf("worker: working\n");
    mtask_status status = mtask_sleep(MTASK_FOREVER);
    printf("worker: it is over, %s; and again %s\n", mtask_status_name(status),
           mtask_status_name(mtask_sleep(seconds(10)))); /* at once */
    mtask_shield_begin();
    status = mtask_sleep(seconds(0.5)); /* stands for writing a file: this wait is a real one */
    printf("worker: shielded, %s; all is saved\n", mtask_status_name(status));
    mtask_shield_end();
    return mtask_fail(MTASK_CANCELED, "saved in time");
}

static void show_cancel(void) {
    mtask_future *worker;
    mtask_outcome outcome;
    int64_t start = mtask_now();
    MUST(mtask_go(work, NULL, &worker));
    MUST(mtask_sleep(seconds(1)));
    MUST(mtask_future_cancel(worker));
    (void)mtask_future_get(worker, &outcome, MTASK_FOREVER); /* until it has really ended */
    printf("cancel: the task has ended by %s, %s; %.3f seconds\n",
           mtask_status_name(outcome.status), outcome.text, seconds_since(start));
    mtask_future_release(worker);
}

/* ---- groups ---- */

static void *fetch(void *arg) {
    int part = (int)(intptr_t)arg;
    mtask_status status = mtask_sleep(seconds(part * 0.5));
    if (status != MTASK_OK) {
        printf("group: part %d is stopped by %s\n", part, mtask_status_name(status));
        return mtask_fail(status, NULL);
    }
    if (part == 2)
        return mtask_fail(MTASK_FAILED, "part %d is damaged", part);
    printf("group: part %d came\n", part);
    return NULL;
}

static void show_group(void) {
    mtask_taskgroup group;
    mtask_outcome failure;
    int64_t start = mtask_now();
    MUST(mtask_taskgroup_begin(&group));
    for (int part = 1; part <= 3; part++)
        MUST(mtask_taskgroup_go(&group, fetch, (void *)(intptr_t)part, NULL));
    mtask_status status = mtask_taskgroup_end(&group, &failure); /* all three have ended */
    printf("group: %s, %s; %.3f seconds\n", mtask_status_name(status), failure.text,
           seconds_since(start));
}

static void *program(void *arg) {
    show_limits();
    show_cancel();
    show_group();
    return arg;
}

int main(void) {
    MUST(mtask_loop_run(program, NULL, NULL));
    return 0;
}
