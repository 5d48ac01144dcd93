// mkdir -p build && cc -O2 -pthread -I. -o build/33_map examples/33_map.c
//
// The four maps. map waits for all results; map_async gives a future; imap hands the results over
// one by one, in order; imap_unordered as they are ready. Chunks save work where items are small: a
// worker takes so many at a time; the default is ceil(items / (4 x workers)).
//
// imap is lazy. It pulls its input as results are taken, and looks ahead by a bounded number: so its
// input may be endless. (Python's imap reads all its input first, however long.)
//
// Output:
//   map: 0 1 4 9 16 25 36 49 64 81
//   map_async: not done at first, 10 of 10 in the end
//   chunks of 7 by default: each by one worker
//   imap: 0 1 4 9 16 of an endless input, pulled at most 8 ahead: yes
//   imap_unordered: 9 results came while item 0 was at work; the last was item 0
#define MTASK_IMPLEMENTATION
#include "mtask_pool.h"
#include "common.h"

enum { WORKERS = 4, ITEMS = 10, MANY = 100, AHEAD = 8 };

static mtask_pool *pool;
static mtask_event go_on;

static void square(const void *in, void *out, void *ctx) {
    (void)ctx;
    *(int *)out = *(const int *)in * *(const int *)in;
}

static void map(const int *numbers) {
    int squares[ITEMS];
    mtask_map_desc desc = {.fn = square,
                           .count = ITEMS,
                           .in = numbers,
                           .in_size = sizeof *numbers,
                           .out = squares,
                           .out_size = sizeof *squares};
    MUST(mtask_pool_map(pool, &desc, NULL));
    printf("map:");
    for (int i = 0; i < ITEMS; i++)
        printf(" %d", squares[i]);
    putchar('\n');
}

static void wait_for_event(const void *in, void *out, void *ctx) {
    (void)in, (void)out, (void)ctx;
    MUST(mtask_event_wait(&go_on, MTASK_FOREVER));
}

static void map_async(void) {
    mtask_future *future;
    mtask_word progress = 0; /* counts finished items, for instance for a progress bar */
    mtask_map_desc desc = {.fn = wait_for_event, .count = ITEMS, .progress = &progress};
    MUST(mtask_pool_map_async(pool, &desc, &future));
    printf("map_async: %s at first", mtask_future_done(future) ? "done" : "not done");
    mtask_event_set(&go_on);
    MUST(mtask_future_get(future, NULL, MTASK_FOREVER));
    printf(", %u of %d in the end\n", mtask_word_load(&progress), ITEMS);
    mtask_future_release(future);
}

static void who_did_it(const void *in, void *out, void *ctx) {
    (void)in, (void)ctx;
    *(uint64_t *)out = mtask_thread_current().id;
}

static void chunks(void) {
    uint64_t worker[MANY];
    size_t chunk = (MANY + 4 * WORKERS - 1) / (4 * WORKERS), torn = 0;
    mtask_map_desc desc = {
        .fn = who_did_it, .count = MANY, .out = worker, .out_size = sizeof *worker};
    MUST(mtask_pool_map(pool, &desc, NULL));
    for (size_t i = 1; i < MANY; i++)
        torn += i % chunk != 0 && worker[i] != worker[i - 1];
    printf("chunks of %zu by default: %s\n", chunk, torn == 0 ? "each by one worker" : "torn");
}

/* The endless input 0, 1, 2 ...; it runs in workers, but never twice at once. */
static mtask_status count(void *in, void *ctx) {
    *(int *)in = (int)mtask_word_add((mtask_word *)ctx, 1);
    return MTASK_OK;
}

static void imap(void) {
    mtask_imap *results;
    mtask_item item;
    mtask_word pulled = 0;
    mtask_imap_desc desc = {.fn = square,
                            .input = count,
                            .ctx = &pulled,
                            .in_size = sizeof(int),
                            .out_size = sizeof(int),
                            .ahead = AHEAD};
    MUST(mtask_pool_imap(pool, &desc, &results));
    MUST(mtask_sleep(seconds(1))); /* time enough to run away */
    bool lazy = mtask_word_load(&pulled) <= AHEAD;
    printf("imap:");
    for (unsigned taken = 1; taken <= 5; taken++) {
        MUST(mtask_imap_next(results, &item, MTASK_FOREVER));
        lazy = lazy && mtask_word_load(&pulled) <= taken + AHEAD;
        printf(" %d", *(int *)item.out);
    }
    mtask_imap_close(results);
    printf(" of an endless input, pulled at most %d ahead: %s\n", AHEAD, lazy ? "yes" : "no");
}

static mtask_status count_to_nine(void *in, void *ctx) {
    return mtask_word_load((mtask_word *)ctx) == ITEMS ? MTASK_DONE : count(in, ctx);
}

static void slow_zero(const void *in, void *out, void *ctx) {
    (void)out, (void)ctx;
    if (*(const int *)in == 0)
        MUST(mtask_event_wait(&go_on, MTASK_FOREVER));
}

static void imap_unordered(void) {
    mtask_imap *results;
    mtask_item item;
    mtask_word pulled = 0;
    mtask_imap_desc desc = {
        .fn = slow_zero, .input = count_to_nine, .ctx = &pulled, .in_size = sizeof(int)};
    mtask_event_clear(&go_on);
    MUST(mtask_pool_imap_unordered(pool, &desc, &results));
    for (int i = 1; i < ITEMS; i++)
        MUST(mtask_imap_next(results, &item, MTASK_FOREVER));
    mtask_event_set(&go_on);
    MUST(mtask_imap_next(results, &item, MTASK_FOREVER));
    printf("imap_unordered: %d results came while item 0 was at work; the last was item %zu\n",
           ITEMS - 1, item.index);
    if (mtask_imap_next(results, &item, MTASK_FOREVER) != MTASK_DONE)
        exit(EXIT_FAILURE);
    mtask_imap_close(results);
}

int main(void) {
    int numbers[ITEMS] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9};
    mtask_pool_desc desc = {.workers = WORKERS};
    MUST(mtask_pool_create(&pool, &desc));
    map(numbers);
    map_async();
    chunks();
    imap();
    imap_unordered();
    MUST(mtask_pool_destroy(pool));
    return 0;
}
