// mkdir -p build && cc -O2 -pthread -I. -o build/83_process_map examples/83_process_map.c
//
// The four maps on processes. map waits for all results; map_async gives a future; imap hands the
// results over one by one, in order; imap_unordered as they are ready. Chunks save work where items
// are small: a process gets so many at a time; the default is ceil(items / (4 x workers)).
//
// imap is lazy. It pulls its input as results are taken, and looks ahead by a bounded number: so its
// input may be endless. (Python's imap reads all its input first, however long.)
//
// Output:
//   map: 0 1 4 9 16 25 36 49 64 81
//   map_async: not done at first, 10 of 10 in the end
//   chunks of 7 by default: each by one process
//   imap: 0 1 4 9 16 of an endless input, pulled at most 8 ahead: yes
//   imap_unordered: 9 results came while item 0 was at work; the last was item 0
#define MTASK_IMPLEMENTATION
#include "mtask_proc.h"
#include "common.h"
#include <unistd.h>

enum { WORKERS = 4, ITEMS = 10, MANY = 100, AHEAD = 8 };

static mtask_procpool *pool;
static mtask_event *go_on; /* in shared memory */

static mtask_status square(const void *in, size_t size, mtask_buf *out) {
    int x = *(const int *)in, y = x * x;
    (void)size;
    return mtask_buf_append(out, &y, sizeof y);
}

static void map(const int *numbers) {
    int squares[ITEMS];
    mtask_procmap_desc desc = {.fn = square,
                               .count = ITEMS,
                               .in = numbers,
                               .in_size = sizeof *numbers,
                               .out = squares,
                               .out_size = sizeof *squares};
    MUST(mtask_procpool_map(pool, &desc, NULL, MTASK_FOREVER));
    printf("map:");
    for (int i = 0; i < ITEMS; i++)
        printf(" %d", squares[i]);
    putchar('\n');
}

static mtask_status wait_for_event(const void *in, size_t size, mtask_buf *out) {
    (void)in, (void)size, (void)out;
    return mtask_event_wait(go_on, MTASK_FOREVER);
}

static void map_async(void) {
    mtask_future *future;
    mtask_word progress = 0; /* counts finished items, for instance for a progress bar */
    mtask_procmap_desc desc = {.fn = wait_for_event, .count = ITEMS, .progress = &progress};
    MUST(mtask_procpool_map_async(pool, &desc, &future));
    printf("map_async: %s at first", mtask_future_done(future) ? "done" : "not done");
    mtask_event_set(go_on);
    MUST(mtask_future_get(future, NULL, MTASK_FOREVER));
    printf(", %u of %d in the end\n", mtask_word_load(&progress), ITEMS);
    mtask_future_release(future);
}

static mtask_status who_did_it(const void *in, size_t size, mtask_buf *out) {
    pid_t pid = getpid();
    (void)in, (void)size;
    return mtask_buf_append(out, &pid, sizeof pid);
}

static void chunks(void) {
    pid_t process[MANY];
    size_t chunk = (MANY + 4 * WORKERS - 1) / (4 * WORKERS), torn = 0;
    mtask_procmap_desc desc = {
        .fn = who_did_it, .count = MANY, .out = process, .out_size = sizeof *process};
    MUST(mtask_procpool_map(pool, &desc, NULL, MTASK_FOREVER));
    for (size_t i = 1; i < MANY; i++)
        torn += i % chunk != 0 && process[i] != process[i - 1];
    printf("chunks of %zu by default: %s\n", chunk, torn == 0 ? "each by one process" : "torn");
}

/* The endless input 0, 1, 2 ...; it runs here, in mtask_procimap_next. */
static mtask_status count(mtask_buf *in, void *ctx) {
    int *next = (int *)ctx;
    mtask_status status = mtask_buf_append(in, next, sizeof *next);
    ++*next;
    return status;
}

static void imap(void) {
    mtask_procimap *results;
    mtask_procitem item;
    int pulled = 0;
    bool lazy = true;
    mtask_procimap_desc desc = {.fn = square, .input = count, .ctx = &pulled, .ahead = AHEAD};
    MUST(mtask_procpool_imap(pool, &desc, &results));
    printf("imap:");
    for (int taken = 0; taken < 5; taken++) {
        MUST(mtask_procimap_next(results, &item, MTASK_FOREVER));
        lazy = lazy && pulled <= taken + AHEAD;
        printf(" %d", *(const int *)item.data);
    }
    mtask_procimap_close(results);
    printf(" of an endless input, pulled at most %d ahead: %s\n", AHEAD, lazy ? "yes" : "no");
}

static mtask_status count_to_nine(mtask_buf *in, void *ctx) {
    return *(int *)ctx == ITEMS ? MTASK_DONE : count(in, ctx);
}

static mtask_status slow_zero(const void *in, size_t size, mtask_buf *out) {
    return *(const int *)in == 0 ? wait_for_event(in, size, out) : MTASK_OK;
}

static void imap_unordered(void) {
    mtask_procimap *results;
    mtask_procitem item;
    int pulled = 0;
    mtask_procimap_desc desc = {.fn = slow_zero, .input = count_to_nine, .ctx = &pulled};
    mtask_event_clear(go_on);
    MUST(mtask_procpool_imap_unordered(pool, &desc, &results));
    for (int i = 1; i < ITEMS; i++)
        MUST(mtask_procimap_next(results, &item, MTASK_FOREVER));
    mtask_event_set(go_on);
    MUST(mtask_procimap_next(results, &item, MTASK_FOREVER));
    printf("imap_unordered: %d results came while item 0 was at work; the last was item %zu\n",
           ITEMS - 1, item.index);
    if (mtask_procimap_next(results, &item, MTASK_FOREVER) != MTASK_DONE)
        exit(EXIT_FAILURE);
    mtask_procimap_close(results);
}

int main(void) {
    int numbers[ITEMS] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9};
    mtask_procpool_desc desc = {.workers = WORKERS};
    mtask_shm memory;
    MUST(mtask_shm_create(&memory, NULL, sizeof *go_on));
    go_on = (mtask_event *)memory.data;
    MUST(mtask_event_init(go_on, MTASK_SHARED));
    MUST(mtask_procpool_create(&pool, &desc));
    map(numbers);
    map_async();
    chunks();
    imap();
    imap_unordered();
    MUST(mtask_procpool_destroy(pool));
    MUST(mtask_shm_close(&memory));
    return 0;
}
