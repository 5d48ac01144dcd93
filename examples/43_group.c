// mkdir -p build && cc -O2 -pthread -I. -o build/43_group examples/43_group.c
//
// Groups of tasks. A file is fetched in twelve parts, a task for each; part 4 is damaged. A group is
// waited for as a whole, and tells the first failure. If it was made with MTASK_FAIL_FAST, the first
// failure cancels what has not started: with one part damaged, nobody needs the others. A group that
// was waited for is as new, and can be used again. And a task may add others to its group: in the
// end each part comes in halves.
//
// Output:
//   all: MTASK_FAILED, part 4 is damaged; 12 of 12 fetched
//   fail fast: MTASK_FAILED, part 4 is damaged; fewer were fetched, the others cancelled
//   repaired: MTASK_OK; 12 of 12 fetched
//   in halves: MTASK_OK; 12 of 12 fetched, and 24 halves
#define MTASK_IMPLEMENTATION
#include "mtask_pool.h"
#include "common.h"

enum { WORKERS = 3, PARTS = 12 };

static int parts[PARTS] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11};
static int damaged = 4;
static mtask_word fetched, canceled, halves;
static mtask_group group;

static void *fetch(void *arg) {
    int part = *(int *)arg;
    MUST(mtask_sleep(seconds(0.5))); /* stands for the wait for the network */
    mtask_word_add(&fetched, 1);
    if (part == damaged)
        return mtask_fail(MTASK_FAILED, "part %d is damaged", part);
    return NULL;
}

static void *fetch_half(void *arg) {
    (void)arg;
    MUST(mtask_sleep(seconds(0.25)));
    mtask_word_add(&halves, 1);
    return NULL;
}

static void *fetch_halves(void *arg) {
    MUST(mtask_group_post(&group, fetch_half, arg));
    MUST(mtask_group_post(&group, fetch_half, arg));
    mtask_word_add(&fetched, 1);
    return NULL;
}

static void not_fetched(const mtask_outcome *outcome, void *ctx) {
    (void)ctx;
    mtask_word_add(&canceled, outcome->status == MTASK_CANCELED);
}

/* Fetches all parts, and says how that went. */
static void fetch_all(const char *how, mtask_pool *pool, mtask_fn fn) {
    mtask_outcome first = {0};
    fetched = canceled = 0;
    for (int i = 0; i < PARTS; i++) {
        mtask_task_desc task = {
            .fn = fn, .arg = &parts[i], .group = &group, .on_failure = not_fetched};
        mtask_status status = mtask_pool_submit_ex(pool, &task, NULL, MTASK_FOREVER);
        if (status == MTASK_CANCELED) /* a failure was quicker than this loop */
            mtask_word_add(&canceled, 1);
        else
            MUST(status);
    }
    mtask_status status = mtask_group_wait(&group, &first, MTASK_FOREVER);
    printf("%s: %s%s%s; ", how, mtask_status_name(status), first.text[0] != '\0' ? ", " : "",
           first.text);
    if (canceled == 0)
        printf("%u of %d fetched%s", fetched, PARTS, halves > 0 ? "" : "\n");
    else
        printf("fewer were fetched, %s\n",
               fetched + canceled == PARTS ? "the others cancelled" : "and some are missing");
}

int main(void) {
    mtask_pool *pool;
    mtask_pool_desc desc = {.workers = WORKERS};
    MUST(mtask_pool_create(&pool, &desc));

    MUST(mtask_group_init(&group, pool, 0));
    fetch_all("all", pool, fetch);
    MUST(mtask_group_init(&group, pool, MTASK_FAIL_FAST));
    fetch_all("fail fast", pool, fetch);
    damaged = -1;
    fetch_all("repaired", pool, fetch);
    fetch_all("in halves", pool, fetch_halves);
    printf(", and %u halves\n", halves);
    MUST(mtask_pool_destroy(pool));
    return 0;
}
