/* test_mtask_queue.c - what queues of every kind do: order, capacity, time-outs, batches, counts
   testing-ldflags: -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=aligned_alloc,--wrap=posix_memalign
 */
#include "testing_threads.h"

#include "../mtask_queue.h"

#include <sys/wait.h>

/* ---- how much memory is asked for ---- */

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *memory, size_t size);
void *__real_aligned_alloc(size_t alignment, size_t size);
int __real_posix_memalign(void **memory, size_t alignment, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *memory, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size);
int __wrap_posix_memalign(void **memory, size_t alignment, size_t size);

static size_t allocations;     /* so far */
static size_t allocated_bytes; /* by them */

static void note_allocation(size_t size) {
    __atomic_fetch_add(&allocations, 1, __ATOMIC_SEQ_CST);
    __atomic_fetch_add(&allocated_bytes, size, __ATOMIC_SEQ_CST);
}

void *__wrap_malloc(size_t size) {
    note_allocation(size);
    return __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size) {
    note_allocation(count * size);
    return __real_calloc(count, size);
}

void *__wrap_realloc(void *memory, size_t size) {
    note_allocation(size);
    return __real_realloc(memory, size);
}

void *__wrap_aligned_alloc(size_t alignment, size_t size) {
    note_allocation(size);
    return __real_aligned_alloc(alignment, size);
}

int __wrap_posix_memalign(void **memory, size_t alignment, size_t size) {
    note_allocation(size);
    return __real_posix_memalign(memory, alignment, size);
}

/* ---- kinds, items and queues of the tests ---- */

#define KINDS 3

static const size_t capacities[] = {1, 2, 3, 5, 7, 64, 1000};
static const size_t item_sizes[] = {1, 2, 3, 4, 7, 8, 12, 16, 24, 64, 100, 4096};

#define COUNT_OF(array) (sizeof(array) / sizeof(array)[0])

/* Orders items by their first byte alone. */
static int by_rank(const void *a, const void *b, void *ctx) {
    (void)ctx;
    return (int)*(const unsigned char *)a - (int)*(const unsigned char *)b;
}

static int by_long(const void *a, const void *b, void *ctx) {
    const long *x = (const long *)a;
    const long *y = (const long *)b;
    (void)ctx;
    return (*x > *y) - (*x < *y);
}

static mtask_queue_desc describe(mtask_queue_kind kind, size_t capacity, size_t item_size) {
    mtask_queue_desc desc = {0};
    desc.kind = kind;
    desc.capacity = capacity;
    desc.item_size = item_size;
    desc.compare = kind == MTASK_PRIORITY ? by_rank : NULL;
    return desc;
}

/* Makes a queue of longs. */
static void open_longs(mtask_queue *queue, mtask_queue_kind kind, size_t capacity) {
    mtask_queue_desc desc = describe(kind, capacity, sizeof(long));
    desc.compare = kind == MTASK_PRIORITY ? by_long : NULL;
    ck_assert_status(mtask_queue_init(queue, &desc), MTASK_OK);
}

static void put_long(mtask_queue *queue, long item) {
    ck_assert_status(mtask_queue_put(queue, &item, MTASK_NOWAIT), MTASK_OK);
}

/* Puts several, then a 0 that ends them. */
static void put_longs(mtask_queue *queue, const long *items) {
    for (; *items != 0; items++)
        put_long(queue, *items);
}

static long get_long(mtask_queue *queue) {
    long item = -1;
    ck_assert_status(mtask_queue_get(queue, &item, MTASK_NOWAIT), MTASK_OK);
    return item;
}

/* The queue's longs are these, up to a 0, in this order, and then it is empty. */
static void check_longs(mtask_queue *queue, const long *items) {
    long item = -1;
    for (; *items != 0; items++)
        ck_assert_int_eq(get_long(queue), *items);
    ck_assert_status(mtask_queue_get(queue, &item, MTASK_NOWAIT), MTASK_EMPTY);
    ck_assert_int_eq(item, -1);
}

static void check_sizes(const mtask_queue *queue, size_t size, bool full) {
    testing_check(mtask_queue_size(queue) == size);
    testing_check(mtask_queue_is_empty(queue) == (size == 0));
    testing_check(mtask_queue_is_full(queue) == full);
}

/* Fills an item of any size: first its rank, then bytes that tell its serial number. */
static void write_item(unsigned char *item, size_t size, unsigned char rank, uint64_t serial) {
    uint64_t bits = serial * UINT64_C(0x9e3779b97f4a7c15);
    item[0] = rank;
    for (size_t i = 1; i < size; i++)
        item[i] = (unsigned char)(bits >> (i % 8 * 8) ^ i);
}

static bool item_is(const unsigned char *item, size_t size, unsigned char rank, uint64_t serial) {
    uint64_t bits = serial * UINT64_C(0x9e3779b97f4a7c15);
    bool same = item[0] == rank;
    for (size_t i = 1; i < size; i++)
        same &= item[i] == (unsigned char)(bits >> (i % 8 * 8) ^ i);
    return same;
}

/* ---- init and deinit ---- */

static void refuse(mtask_queue_desc desc, mtask_status why) {
    mtask_queue queue;
    memset(&queue, 0, sizeof queue);
    ck_assert_status(mtask_queue_init(&queue, &desc), why);
    ck_assert_status(mtask_queue_deinit(&queue), MTASK_INVALID); /* nothing was made */
}

START_TEST(init_refuses_missing_arguments) {
    mtask_queue queue;
    mtask_queue_desc desc = describe(MTASK_FIFO, 4, 4);
    memset(&queue, 0, sizeof queue);
    ck_assert_status(mtask_queue_init(NULL, &desc), MTASK_INVALID);
    ck_assert_status(mtask_queue_init(&queue, NULL), MTASK_INVALID);
    ck_assert_status(mtask_queue_init(NULL, NULL), MTASK_INVALID);
    memset(&desc, 0, sizeof desc);
    refuse(desc, MTASK_INVALID);
}
END_TEST

START_TEST(init_refuses_capacity_or_item_size_zero) {
    for (int kind = 0; kind < KINDS; kind++) {
        refuse(describe((mtask_queue_kind)kind, 0, 4), MTASK_INVALID);
        refuse(describe((mtask_queue_kind)kind, 4, 0), MTASK_INVALID);
        refuse(describe((mtask_queue_kind)kind, MTASK_UNBOUNDED, 0), MTASK_INVALID);
    }
}
END_TEST

START_TEST(init_refuses_unknown_kinds_and_flags) {
    mtask_queue_desc desc = describe(MTASK_FIFO, 4, 4);
    refuse(describe((mtask_queue_kind)3, 4, 4), MTASK_INVALID);
    refuse(describe((mtask_queue_kind)100, 4, 4), MTASK_INVALID);
    for (int flag = 0; flag < 31; flag++) {
        desc.flags = 1 << flag; /* of them MTASK_SHARED is known, but lacks its storage here */
        refuse(desc, MTASK_INVALID);
    }
    desc.flags = -1;
    refuse(desc, MTASK_INVALID);
}
END_TEST

START_TEST(only_priority_queues_compare_and_they_must) {
    mtask_queue_desc desc = describe(MTASK_PRIORITY, 4, 4);
    desc.compare = NULL;
    refuse(desc, MTASK_INVALID);
    desc.capacity = MTASK_UNBOUNDED;
    refuse(desc, MTASK_INVALID);
    desc = describe(MTASK_FIFO, 4, 4);
    desc.compare = by_rank;
    refuse(desc, MTASK_INVALID);
    desc.kind = MTASK_LIFO;
    refuse(desc, MTASK_INVALID);
}
END_TEST

START_TEST(init_refuses_what_cannot_be_shared) {
    mtask_queue_desc desc = describe(MTASK_FIFO, 4, 4);
    static MTASK_QUEUE_STORAGE(storage, 4, 4);
    desc.flags = MTASK_SHARED;
    refuse(desc, MTASK_INVALID); /* no storage */
    desc.storage = storage;
    desc.storage_size = sizeof storage;
    desc.capacity = MTASK_UNBOUNDED;
    refuse(desc, MTASK_INVALID);
    desc.flags = MTASK_PRIVATE;
    refuse(desc, MTASK_INVALID); /* nor does what is given grow */
}
END_TEST

START_TEST(init_refuses_more_than_the_address_space_holds) {
    for (int kind = 0; kind < KINDS; kind++) {
        refuse(describe((mtask_queue_kind)kind, SIZE_MAX / 2, 16), MTASK_OVERFLOW);
        refuse(describe((mtask_queue_kind)kind, SIZE_MAX - 1, 1), MTASK_OVERFLOW);
        refuse(describe((mtask_queue_kind)kind, 2, SIZE_MAX), MTASK_OVERFLOW);
        refuse(describe((mtask_queue_kind)kind, 1, SIZE_MAX), MTASK_OVERFLOW);
        refuse(describe((mtask_queue_kind)kind, SIZE_MAX / 64 + 1, 64), MTASK_OVERFLOW);
    }
#if SIZE_MAX > UINT32_MAX
    refuse(describe(MTASK_PRIORITY, ((size_t)1 << 32) + 1, 1), MTASK_OVERFLOW);
#endif
}
END_TEST

START_TEST(an_ended_queue_can_be_made_again) {
    mtask_queue queue;
    for (int round = 0; round < 3; round++)
        for (int kind = 0; kind < KINDS; kind++) {
            open_longs(&queue, (mtask_queue_kind)kind, (size_t)round + 1);
            put_long(&queue, 5);
            ck_assert_int_eq(get_long(&queue), 5);
            ck_assert_status(mtask_queue_deinit(&queue), MTASK_OK);
        }
}
END_TEST

START_TEST(deinit_refuses_what_is_not_initialised) {
    mtask_queue queue;
    memset(&queue, 0, sizeof queue);
    ck_assert_status(mtask_queue_deinit(NULL), MTASK_INVALID);
    ck_assert_status(mtask_queue_deinit(&queue), MTASK_INVALID);
    open_longs(&queue, MTASK_FIFO, 2);
    ck_assert_status(mtask_queue_deinit(&queue), MTASK_OK);
    ck_assert_status(mtask_queue_deinit(&queue), MTASK_INVALID);
}
END_TEST

/* The leak checker sees what they leave. */
START_TEST(deinit_drops_what_is_left) {
    mtask_queue queue;
    for (int kind = 0; kind < KINDS; kind++)
        for (int bounded = 0; bounded < 2; bounded++) {
            open_longs(&queue, (mtask_queue_kind)kind, bounded ? 100 : MTASK_UNBOUNDED);
            for (long i = 1; i <= 100; i++)
                put_long(&queue, i);
            ck_assert_status(mtask_queue_deinit(&queue), MTASK_OK);
        }
}
END_TEST

START_TEST(missing_arguments_are_refused) {
    mtask_queue queue;
    long item = 1;
    size_t moved = 9;
    int fd = -1;
    open_longs(&queue, MTASK_FIFO, 2);
    ck_assert_status(mtask_queue_put(NULL, &item, 0), MTASK_INVALID);
    ck_assert_status(mtask_queue_put(&queue, NULL, 0), MTASK_INVALID);
    ck_assert_status(mtask_queue_put_many(NULL, &item, 1, &moved, 0), MTASK_INVALID);
    ck_assert_status(mtask_queue_put_many(&queue, NULL, 1, &moved, 0), MTASK_INVALID);
    ck_assert_uint_eq(moved, 0);
    put_long(&queue, 3);
    ck_assert_status(mtask_queue_get(NULL, &item, 0), MTASK_INVALID);
    ck_assert_status(mtask_queue_get(&queue, NULL, 0), MTASK_INVALID);
    moved = 9;
    ck_assert_status(mtask_queue_get_many(NULL, &item, 1, &moved, 0), MTASK_INVALID);
    ck_assert_status(mtask_queue_get_many(&queue, NULL, 1, &moved, 0), MTASK_INVALID);
    ck_assert_uint_eq(moved, 0);
    ck_assert_status(mtask_queue_peek(NULL, &item), MTASK_INVALID);
    ck_assert_status(mtask_queue_peek(&queue, NULL), MTASK_INVALID);
    ck_assert_status(mtask_queue_task_done(NULL), MTASK_INVALID);
    ck_assert_status(mtask_queue_join(NULL, 0), MTASK_INVALID);
    ck_assert_status(mtask_queue_close(NULL), MTASK_INVALID);
    ck_assert_status(mtask_queue_discard(NULL, NULL, NULL, NULL), MTASK_INVALID);
    ck_assert_status(mtask_queue_pollfd(NULL, &fd), MTASK_INVALID);
    ck_assert_status(mtask_queue_pollfd(&queue, NULL), MTASK_INVALID);
    check_sizes(&queue, 1, false);
    ck_assert_int_eq(get_long(&queue), 3);
    ck_assert_status(mtask_queue_deinit(&queue), MTASK_OK);
}
END_TEST

/* ---- the type-safe wrappers ---- */

struct job {
    int rank;
    const char *what;
};

MTASK_QUEUE_TYPE(numbers, int);
MTASK_QUEUE_TYPE(jobs, struct job);
MTASK_QUEUE_TYPE(names, const char *);

static int by_job_rank(const void *a, const void *b, void *ctx) {
    (void)ctx;
    return ((const struct job *)a)->rank - ((const struct job *)b)->rank;
}

static void sum_ranks(struct job *job, void *ctx) {
    *(int *)ctx += job->rank;
}

START_TEST(typed_queues_need_no_cast) {
    numbers queue;
    int few[] = {2, 3, 4};
    int got[3] = {0, 0, 0};
    size_t moved = 0;
    ck_assert_status(numbers_init(&queue, 3), MTASK_OK);
    ck_assert(numbers_is_empty(&queue) && !numbers_is_full(&queue));
    ck_assert_status(numbers_put(&queue, 1, MTASK_NOWAIT), MTASK_OK);
    ck_assert_status(numbers_put_many(&queue, few, 3, &moved, MTASK_NOWAIT), MTASK_FULL);
    ck_assert_uint_eq(moved, 2);
    ck_assert(numbers_is_full(&queue));
    ck_assert_uint_eq(numbers_size(&queue), 3);
    ck_assert_status(numbers_get_many(&queue, got, 3, &moved, MTASK_NOWAIT), MTASK_OK);
    ck_assert_uint_eq(moved, 3);
    ck_assert(got[0] == 1 && got[1] == 2 && got[2] == 3);
    ck_assert_uint_eq(numbers_unfinished(&queue), 3);
    for (int i = 0; i < 3; i++)
        ck_assert_status(numbers_task_done(&queue), MTASK_OK);
    ck_assert_status(numbers_join(&queue, MTASK_NOWAIT), MTASK_OK);
    ck_assert(!numbers_is_closed(&queue));
    ck_assert_status(numbers_close(&queue), MTASK_OK);
    ck_assert(numbers_is_closed(&queue));
    ck_assert_status(numbers_get(&queue, got, MTASK_FOREVER), MTASK_CLOSED);
    ck_assert_status(numbers_discard(&queue, NULL, NULL, &moved), MTASK_OK);
    ck_assert_uint_eq(moved, 0);
    ck_assert_status(numbers_deinit(&queue), MTASK_OK);
}
END_TEST

START_TEST(typed_queues_hold_structures) {
    jobs queue;
    struct job job = {3, "c"};
    mtask_queue_desc desc = {0};
    int sum = 0;
    size_t discarded = 0;
    desc.kind = MTASK_PRIORITY;
    desc.capacity = MTASK_UNBOUNDED;
    desc.compare = by_job_rank;
    ck_assert_status(jobs_init_ex(&queue, NULL), MTASK_INVALID);
    ck_assert_status(jobs_attach(&queue, NULL), MTASK_INVALID);
    ck_assert_status(jobs_init_ex(&queue, &desc), MTASK_OK);
    ck_assert_uint_eq(desc.item_size, 0); /* the user's own stays as it was */
    ck_assert_status(jobs_put(&queue, job, MTASK_FOREVER), MTASK_OK);
    job.rank = 1;
    job.what = "a";
    ck_assert_status(jobs_put(&queue, job, MTASK_FOREVER), MTASK_OK);
    memset(&job, 0, sizeof job);
    ck_assert_status(jobs_peek(&queue, &job), MTASK_OK);
    ck_assert_str_eq(job.what, "a");
    ck_assert_status(jobs_discard(&queue, sum_ranks, &sum, &discarded), MTASK_OK);
    ck_assert_int_eq(sum, 4);
    ck_assert_uint_eq(discarded, 2);
    ck_assert_status(jobs_join(&queue, MTASK_NOWAIT), MTASK_OK);
    ck_assert_status(jobs_deinit(&queue), MTASK_OK);
}
END_TEST

START_TEST(typed_queues_hold_pointers) {
    names queue;
    const char *name = NULL;
    ck_assert_status(names_init(&queue, 2), MTASK_OK);
    ck_assert_status(names_put(&queue, "one", MTASK_NOWAIT), MTASK_OK);
    ck_assert_status(names_put(&queue, NULL, MTASK_NOWAIT), MTASK_OK);
    ck_assert_status(names_get(&queue, &name, MTASK_NOWAIT), MTASK_OK);
    ck_assert_str_eq(name, "one");
    ck_assert_status(names_get(&queue, &name, MTASK_NOWAIT), MTASK_OK);
    ck_assert_ptr_null(name);
    ck_assert_status(names_deinit(&queue), MTASK_OK);
}
END_TEST

/* ---- order, and what a queue of each kind does by itself ---- */

START_TEST(fifo_gives_in_the_order_of_puts) {
    mtask_queue queue;
    open_longs(&queue, MTASK_FIFO, 3);
    put_longs(&queue, (const long[]){111, 333, 222, 0});
    check_longs(&queue, (const long[]){111, 333, 222, 0});
    ck_assert_status(mtask_queue_deinit(&queue), MTASK_OK);
}
END_TEST

START_TEST(lifo_gives_the_last_first) {
    mtask_queue queue;
    open_longs(&queue, MTASK_LIFO, 3);
    put_longs(&queue, (const long[]){111, 333, 222, 0});
    ck_assert_int_eq(get_long(&queue), 222);
    put_long(&queue, 444);
    check_longs(&queue, (const long[]){444, 333, 111, 0});
    ck_assert_status(mtask_queue_deinit(&queue), MTASK_OK);
}
END_TEST

START_TEST(priority_gives_the_least_first) {
    mtask_queue queue;
    open_longs(&queue, MTASK_PRIORITY, 4);
    put_longs(&queue, (const long[]){111, 333, 222, 0});
    ck_assert_int_eq(get_long(&queue), 111);
    put_longs(&queue, (const long[]){444, 1, 0});
    check_longs(&queue, (const long[]){1, 222, 333, 444, 0});
    ck_assert_status(mtask_queue_deinit(&queue), MTASK_OK);
}
END_TEST

/* What CPython's basic test does, on queues that hold five. */
static void use_simply(mtask_queue *queue) {
    long item = 0;
    check_sizes(queue, 0, false);
    for (long i = 1; i < 5; i++) {
        put_long(queue, i);
        check_sizes(queue, (size_t)i, false);
    }
    put_long(queue, 5);
    check_sizes(queue, 5, true);
    item = 6;
    ck_assert_status(mtask_queue_put(queue, &item, MTASK_NOWAIT), MTASK_FULL);
    ck_assert_status(mtask_queue_put(queue, &item, MTASK_MS(1)), MTASK_FULL);
    check_sizes(queue, 5, true);
    for (size_t left = 5; left > 0; left--) {
        ck_assert_status(mtask_queue_get(queue, &item, MTASK_NOWAIT), MTASK_OK);
        check_sizes(queue, left - 1, false);
    }
    ck_assert_status(mtask_queue_get(queue, &item, MTASK_NOWAIT), MTASK_EMPTY);
    ck_assert_status(mtask_queue_get(queue, &item, MTASK_MS(1)), MTASK_EMPTY);
    check_sizes(queue, 0, false);
}

START_TEST(queues_of_five_fill_and_drain_twice) {
    mtask_queue queue;
    for (int kind = 0; kind < KINDS; kind++) {
        open_longs(&queue, (mtask_queue_kind)kind, 5);
        use_simply(&queue);
        use_simply(&queue);
        ck_assert_status(mtask_queue_deinit(&queue), MTASK_OK);
    }
}
END_TEST

START_TEST(unbounded_queues_are_never_full) {
    mtask_queue queue;
    for (int kind = 0; kind < KINDS; kind++) {
        open_longs(&queue, (mtask_queue_kind)kind, MTASK_UNBOUNDED);
        for (long i = 1; i <= 20000; i++) {
            put_long(&queue, i);
            testing_check(!mtask_queue_is_full(&queue));
        }
        check_sizes(&queue, 20000, false);
        for (long i = 1; i <= 20000; i++)
            testing_check(get_long(&queue) == (kind == MTASK_LIFO ? 20001 - i : i));
        check_sizes(&queue, 0, false);
        ck_assert_status(mtask_queue_deinit(&queue), MTASK_OK);
    }
}
END_TEST

/* A sawtooth: an unbounded FIFO is read where it began while it grows where it ends. */
START_TEST(an_unbounded_fifo_keeps_its_order_while_it_grows_and_shrinks) {
    mtask_queue queue;
    long in = 0, out = 0;
    open_longs(&queue, MTASK_FIFO, MTASK_UNBOUNDED);
    for (long round = 1; round < 200; round++) {
        for (long i = 0; i < round * 3; i++)
            put_long(&queue, ++in);
        for (long i = 0; i < round * 3 - 1 - round % 3; i++)
            testing_check(get_long(&queue) == ++out);
        check_sizes(&queue, (size_t)(in - out), false);
    }
    while (out < in)
        testing_check(get_long(&queue) == ++out);
    ck_assert_status(mtask_queue_deinit(&queue), MTASK_OK);
}
END_TEST

/* A drained queue gives its memory back, and starts anew. */
START_TEST(an_unbounded_queue_can_be_filled_again_after_it_was_drained) {
    mtask_queue queue;
    const long sizes[] = {3000, 40, 2000, 2500, 1, 1025, 31, 33, 10000, 5000};
    for (int kind = 0; kind < KINDS; kind++) {
        open_longs(&queue, (mtask_queue_kind)kind, MTASK_UNBOUNDED);
        for (size_t round = 0; round < COUNT_OF(sizes); round++) {
            for (long i = 1; i <= sizes[round]; i++)
                put_long(&queue, i);
            check_sizes(&queue, (size_t)sizes[round], false);
            for (long i = 1; i <= sizes[round]; i++)
                testing_check(get_long(&queue) == (kind == MTASK_LIFO ? sizes[round] + 1 - i : i));
            check_sizes(&queue, 0, false);
        }
        ck_assert_status(mtask_queue_deinit(&queue), MTASK_OK);
    }
}
END_TEST

START_TEST(an_unbounded_queue_grows_within_a_batch) {
    static long items[20000], got[20000];
    size_t moved = 0;
    for (long i = 0; i < 20000; i++)
        items[i] = i;
    for (int kind = 0; kind < KINDS; kind++)
        for (size_t count = 31; count <= 20000; count = count * 5 / 3) {
            mtask_queue queue;
            open_longs(&queue, (mtask_queue_kind)kind, MTASK_UNBOUNDED);
            for (int round = 0; round < 3; round++) {
                ck_assert_status(mtask_queue_put_many(&queue, items, count, &moved, 0), MTASK_OK);
                testing_check(moved == count);
                ck_assert_status(mtask_queue_get_many(&queue, got, 20000, &moved, 0), MTASK_OK);
                testing_check(moved == count);
                testing_check(kind == MTASK_LIFO || memcmp(items, got, count * sizeof(long)) == 0);
                testing_check(got[kind == MTASK_LIFO ? count - 1 : 0] == 0);
            }
            ck_assert_status(mtask_queue_deinit(&queue), MTASK_OK);
        }
}
END_TEST

/* ---- peek ---- */

START_TEST(peek_shows_what_get_would_take) {
    mtask_queue queue;
    long item = -1;
    const long first[KINDS] = {2, 3, 1};
    for (int kind = 0; kind < KINDS; kind++)
        for (int bounded = 0; bounded < 2; bounded++) {
            open_longs(&queue, (mtask_queue_kind)kind, bounded ? 3 : MTASK_UNBOUNDED);
            item = -1;
            ck_assert_status(mtask_queue_peek(&queue, &item), MTASK_EMPTY);
            ck_assert_int_eq(item, -1);
            put_longs(&queue, (const long[]){2, 1, 3, 0});
            for (int i = 0; i < 2; i++) {
                ck_assert_status(mtask_queue_peek(&queue, &item), MTASK_OK);
                ck_assert_int_eq(item, first[kind]);
                check_sizes(&queue, 3, bounded);
            }
            ck_assert_int_eq(get_long(&queue), first[kind]);
            ck_assert_status(mtask_queue_close(&queue), MTASK_OK);
            ck_assert_status(mtask_queue_peek(&queue, &item), MTASK_OK);
            ck_assert_int_eq(get_long(&queue), item);
            ck_assert_int_ne(get_long(&queue), item);
            ck_assert_status(mtask_queue_peek(&queue, &item), MTASK_CLOSED);
            ck_assert_status(mtask_queue_deinit(&queue), MTASK_OK);
        }
}
END_TEST

/* ---- exact capacities, items of every size ---- */

/* Puts items number *in, *in + 1, ... until the queue is full; it held `size` and holds `capacity`.
 */
static void fill_to_the_brim(mtask_queue *queue, size_t capacity, size_t size, uint64_t *in) {
    unsigned char item[4096];
    for (; size < capacity; size++) {
        write_item(item, queue->item_size, 7, *in);
        ck_assert_status(mtask_queue_put(queue, item, MTASK_NOWAIT), MTASK_OK);
        (*in)++;
    }
    testing_check(mtask_queue_is_full(queue));
    testing_check(mtask_queue_size(queue) == capacity);
    ck_assert_status(mtask_queue_put(queue, item, MTASK_NOWAIT), MTASK_FULL);
}

/* Takes `count` items out: of equal ranks, in the order of the kind, between those numbers. */
static void take_some(mtask_queue *queue, mtask_queue_kind kind, size_t count, uint64_t *out,
                      uint64_t in) {
    unsigned char item[4096 + 1];
    while (count-- > 0) {
        uint64_t expected = kind == MTASK_LIFO ? --in : (*out)++;
        item[queue->item_size] = 0xA5;
        ck_assert_status(mtask_queue_get(queue, item, MTASK_NOWAIT), MTASK_OK);
        testing_check(item_is(item, queue->item_size, 7, expected));
        testing_check(item[queue->item_size] == 0xA5);
    }
}

/* Fills to the brim and drains by ever different amounts, so that each slot is the first once, and
   the last. */
static void fill_and_drain(mtask_queue_kind kind, size_t capacity, size_t item_size) {
    mtask_queue_desc desc = describe(kind, capacity, item_size);
    mtask_queue queue;
    uint64_t in = 0, out = 0;
    unsigned char item[4096];
    size_t rounds = capacity < 10 ? 3 * capacity + 2 : 6;
    ck_assert_status(mtask_queue_init(&queue, &desc), MTASK_OK);
    for (size_t round = 1; round <= rounds; round++) {
        size_t count = round * 7919 % capacity + 1;
        fill_to_the_brim(&queue, capacity, (size_t)(in - out), &in);
        take_some(&queue, kind, count, &out, in);
        if (kind == MTASK_LIFO)
            in -= count; /* the lowest numbers stay in */
        testing_check(mtask_queue_size(&queue) == capacity - count);
        testing_check(!mtask_queue_is_full(&queue));
    }
    take_some(&queue, kind, (size_t)(in - out), &out, in);
    ck_assert_status(mtask_queue_get(&queue, item, MTASK_NOWAIT), MTASK_EMPTY);
    ck_assert_status(mtask_queue_deinit(&queue), MTASK_OK);
}

static void fill_and_drain_all(mtask_queue_kind kind) {
    for (size_t i = 0; i < COUNT_OF(capacities); i++)
        for (size_t j = 0; j < COUNT_OF(item_sizes); j++)
            fill_and_drain(kind, capacities[i], item_sizes[j]);
}

START_TEST(fifo_holds_exactly_its_capacity) {
    fill_and_drain_all(MTASK_FIFO);
}
END_TEST

START_TEST(lifo_holds_exactly_its_capacity) {
    fill_and_drain_all(MTASK_LIFO);
}
END_TEST

START_TEST(priority_holds_exactly_its_capacity) {
    fill_and_drain_all(MTASK_PRIORITY);
}
END_TEST

START_TEST(items_may_lie_at_any_address) {
    mtask_queue queue;
    unsigned char bytes[64 + 8];
    for (int kind = 0; kind < KINDS; kind++)
        for (size_t at = 0; at < 8; at++) {
            mtask_queue_desc desc = describe((mtask_queue_kind)kind, 2, 16);
            size_t moved = 0;
            ck_assert_status(mtask_queue_init(&queue, &desc), MTASK_OK);
            write_item(bytes + at, 16, 1, at);
            write_item(bytes + at + 16, 16, 1, at + 100);
            ck_assert_status(mtask_queue_put_many(&queue, bytes + at, 2, &moved, 0), MTASK_OK);
            memset(bytes, 0, sizeof bytes);
            ck_assert_status(mtask_queue_peek(&queue, bytes + at + 1), MTASK_OK);
            ck_assert(item_is(bytes + at + 1, 16, 1, kind == MTASK_LIFO ? at + 100 : at));
            ck_assert_status(mtask_queue_get(&queue, bytes + at, 0), MTASK_OK);
            ck_assert(item_is(bytes + at, 16, 1, kind == MTASK_LIFO ? at + 100 : at));
            ck_assert_status(mtask_queue_put(&queue, bytes + at, 0), MTASK_OK);
            ck_assert_status(mtask_queue_get_many(&queue, bytes + at, 2, &moved, 0), MTASK_OK);
            ck_assert_uint_eq(moved, 2);
            ck_assert(item_is(bytes + at, 16, 1, at + 100) && item_is(bytes + at + 16, 16, 1, at));
            ck_assert_status(mtask_queue_deinit(&queue), MTASK_OK);
        }
}
END_TEST

/* ---- the callbacks are handed items that are aligned as the user's type must be ---- */

static size_t alignment_asked; /* the greatest power of two in the item size, at most 16 */

static void check_alignment(const void *item) {
    testing_check((uintptr_t)item % alignment_asked == 0);
}

static int by_aligned(const void *a, const void *b, void *ctx) {
    check_alignment(a);
    check_alignment(b);
    return by_rank(a, b, ctx);
}

static void look_at_alignment(void *item, void *ctx) {
    check_alignment(item);
    ++*(size_t *)ctx;
}

static void see_alignment(mtask_queue_kind kind, size_t capacity, size_t item_size) {
    mtask_queue_desc desc = describe(kind, capacity, item_size);
    mtask_queue queue;
    _Alignas(16) unsigned char item[4096];
    size_t seen = 0, discarded = 0, count = capacity < 20 ? capacity : 20;
    desc.compare = kind == MTASK_PRIORITY ? by_aligned : NULL;
    alignment_asked = item_size & (~item_size + 1);
    if (alignment_asked > 16)
        alignment_asked = 16;
    ck_assert_status(mtask_queue_init(&queue, &desc), MTASK_OK);
    for (size_t i = 0; i < count; i++) {
        write_item(item, item_size, (unsigned char)(i * 37), i);
        ck_assert_status(mtask_queue_put(&queue, item, MTASK_NOWAIT), MTASK_OK);
    }
    ck_assert_status(mtask_queue_get(&queue, item, MTASK_NOWAIT), MTASK_OK);
    ck_assert_status(mtask_queue_discard(&queue, look_at_alignment, &seen, &discarded), MTASK_OK);
    ck_assert_uint_eq(seen, count - 1);
    ck_assert_uint_eq(discarded, seen);
    ck_assert_status(mtask_queue_deinit(&queue), MTASK_OK);
}

START_TEST(callbacks_see_aligned_items) {
    const size_t sizes[] = {1, 2, 4, 8, 12, 16, 24, 32, 48, 4096};
    for (int kind = 0; kind < KINDS; kind++)
        for (size_t i = 0; i < COUNT_OF(sizes); i++) {
            see_alignment((mtask_queue_kind)kind, 1, sizes[i]);
            see_alignment((mtask_queue_kind)kind, 5, sizes[i]);
            see_alignment((mtask_queue_kind)kind, 64, sizes[i]);
            see_alignment((mtask_queue_kind)kind, MTASK_UNBOUNDED, sizes[i]);
        }
}
END_TEST

/* ---- batches ---- */

static void check_batches(mtask_queue *queue, bool bounded) {
    long items[12], got[12];
    size_t moved = 99;
    for (long i = 0; i < 12; i++)
        items[i] = i + 1;
    ck_assert_status(mtask_queue_put_many(queue, items, 0, &moved, MTASK_FOREVER), MTASK_OK);
    ck_assert_uint_eq(moved, 0);
    moved = 99;
    ck_assert_status(mtask_queue_get_many(queue, got, 0, &moved, MTASK_FOREVER), MTASK_OK);
    ck_assert_uint_eq(moved, 0);
    moved = 99;
    ck_assert_status(mtask_queue_get_many(queue, got, 3, &moved, MTASK_NOWAIT), MTASK_EMPTY);
    ck_assert_uint_eq(moved, 0);
    ck_assert_status(mtask_queue_put_many(queue, items, 3, &moved, MTASK_NOWAIT), MTASK_OK);
    ck_assert_uint_eq(moved, 3);
    ck_assert_status(mtask_queue_get_many(queue, got, 2, &moved, MTASK_NOWAIT), MTASK_OK);
    ck_assert_uint_eq(moved, 2);
    check_sizes(queue, 1, false);
    ck_assert_status(mtask_queue_put_many(queue, items, 12, &moved, MTASK_MS(1)),
                     bounded ? MTASK_FULL : MTASK_OK);
    ck_assert_uint_eq(moved, bounded ? 4 : 12);
    moved = 99;
    if (bounded)
        ck_assert_status(mtask_queue_put_many(queue, items, 1, &moved, MTASK_NOWAIT), MTASK_FULL);
    ck_assert_uint_eq(moved, bounded ? 0 : 99);
    ck_assert_status(mtask_queue_get_many(queue, got, 2, NULL, MTASK_FOREVER), MTASK_OK);
    ck_assert_status(mtask_queue_put_many(queue, items, 2, NULL, MTASK_NOWAIT), MTASK_OK);
    ck_assert_status(mtask_queue_close(queue), MTASK_OK);
    ck_assert_status(mtask_queue_put_many(queue, items, 2, &moved, MTASK_FOREVER), MTASK_CLOSED);
    ck_assert_uint_eq(moved, 0);
    while (!mtask_queue_is_empty(queue))
        ck_assert_status(mtask_queue_get_many(queue, got, 12, NULL, MTASK_NOWAIT), MTASK_OK);
    moved = 99;
    ck_assert_status(mtask_queue_get_many(queue, got, 2, &moved, MTASK_FOREVER), MTASK_CLOSED);
    ck_assert_uint_eq(moved, 0);
}

START_TEST(batches_tell_how_many_were_moved) {
    mtask_queue queue;
    for (int kind = 0; kind < KINDS; kind++)
        for (int bounded = 0; bounded < 2; bounded++) {
            open_longs(&queue, (mtask_queue_kind)kind, bounded ? 5 : MTASK_UNBOUNDED);
            check_batches(&queue, bounded);
            ck_assert_status(mtask_queue_deinit(&queue), MTASK_OK);
        }
}
END_TEST

/* Batches of each length at each place, so that they cross the end of the ring everywhere. */
START_TEST(batches_cross_the_end_of_the_ring) {
    mtask_queue queue;
    long items[9], got[9], next = 0, expected = 0;
    size_t moved = 0;
    for (size_t capacity = 1; capacity <= 9; capacity++)
        for (size_t length = 1; length <= capacity; length++) {
            open_longs(&queue, MTASK_FIFO, capacity);
            for (int round = 0; round < 20; round++) {
                for (size_t i = 0; i < length; i++)
                    items[i] = next++;
                ck_assert_status(mtask_queue_put_many(&queue, items, length, &moved, 0), MTASK_OK);
                testing_check(moved == length);
                ck_assert_status(mtask_queue_get_many(&queue, got, 9, &moved, 0), MTASK_OK);
                testing_check(moved == length);
                for (size_t i = 0; i < length; i++)
                    testing_check(got[i] == expected++);
            }
            ck_assert_status(mtask_queue_deinit(&queue), MTASK_OK);
        }
}
END_TEST

START_TEST(batches_follow_the_order_of_the_kind) {
    mtask_queue queue;
    long items[] = {3, 1, 2, 1}, got[4];
    const long expected[KINDS][4] = {{3, 1, 2, 1}, {1, 2, 1, 3}, {1, 1, 2, 3}};
    size_t moved = 0;
    for (int kind = 0; kind < KINDS; kind++)
        for (int bounded = 0; bounded < 2; bounded++) {
            open_longs(&queue, (mtask_queue_kind)kind, bounded ? 4 : MTASK_UNBOUNDED);
            ck_assert_status(mtask_queue_put_many(&queue, items, 4, &moved, 0), MTASK_OK);
            ck_assert_status(mtask_queue_get_many(&queue, got, 4, &moved, 0), MTASK_OK);
            ck_assert_uint_eq(moved, 4);
            ck_assert_int_eq(memcmp(got, expected[kind], sizeof got), 0);
            ck_assert_status(mtask_queue_deinit(&queue), MTASK_OK);
        }
}
END_TEST

#define LONG_BATCH 1000

static void put_long_batch(testing_member *self) {
    long items[LONG_BATCH];
    size_t moved = 0;
    for (long i = 0; i < LONG_BATCH; i++)
        items[i] = i;
    self->status =
        mtask_queue_put_many((mtask_queue *)self->arg, items, LONG_BATCH, &moved, MTASK_FOREVER);
    self->number = (long)moved;
}

/* Longer than the queue: it goes in piece by piece as others take it out. */
START_TEST(a_batch_may_be_longer_than_the_queue) {
    for (int kind = 0; kind < KINDS; kind++)
        for (size_t capacity = 1; capacity < 10; capacity += 3) {
            mtask_queue queue;
            testing_crowd crowd;
            long sum = 0, last = -1;
            open_longs(&queue, (mtask_queue_kind)kind, capacity);
            testing_crowd_start(&crowd, 1, put_long_batch, &queue);
            for (int i = 0; i < LONG_BATCH; i++) {
                long item = -1;
                ck_assert_status(mtask_queue_get(&queue, &item, MTASK_FOREVER), MTASK_OK);
                testing_check(kind == MTASK_LIFO || item == last + 1);
                last = item;
                sum += item;
            }
            testing_crowd_join(&crowd);
            ck_assert_status(crowd.members[0].status, MTASK_OK);
            ck_assert_int_eq(crowd.members[0].number, LONG_BATCH);
            ck_assert_int_eq(sum, (long)LONG_BATCH * (LONG_BATCH - 1) / 2);
            check_sizes(&queue, 0, false);
            ck_assert_status(mtask_queue_deinit(&queue), MTASK_OK);
        }
}
END_TEST

/* ---- priorities ---- */

typedef struct ranked {
    unsigned char rank;
    uint32_t serial;
} ranked;

START_TEST(equal_priorities_come_out_as_they_came_in) {
    mtask_queue queue;
    for (int bounded = 0; bounded < 2; bounded++)
        for (unsigned ranks = 1; ranks < 5; ranks++) {
            mtask_queue_desc desc =
                describe(MTASK_PRIORITY, bounded ? 3000 : MTASK_UNBOUNDED, sizeof(ranked));
            ranked item, last = {0, 0};
            ck_assert_status(mtask_queue_init(&queue, &desc), MTASK_OK);
            for (uint32_t i = 1; i <= 3000; i++) {
                memset(&item, 0, sizeof item);
                item.rank = (unsigned char)((i * 2654435761u >> 16) % ranks);
                item.serial = i;
                ck_assert_status(mtask_queue_put(&queue, &item, 0), MTASK_OK);
            }
            for (int i = 0; i < 3000; i++) {
                ck_assert_status(mtask_queue_get(&queue, &item, 0), MTASK_OK);
                testing_check(item.rank > last.rank ||
                              (item.rank == last.rank && item.serial > last.serial));
                last = item;
            }
            ck_assert_status(mtask_queue_deinit(&queue), MTASK_OK);
        }
}
END_TEST

static int by_direction(const void *a, const void *b, void *ctx) {
    return *(const int *)ctx * by_long(a, b, NULL);
}

START_TEST(compare_is_handed_its_context) {
    mtask_queue queue;
    for (int direction = -1; direction <= 1; direction++) {
        mtask_queue_desc desc = describe(MTASK_PRIORITY, 3, sizeof(long));
        const long expected[3][4] = {{3, 2, 1, 0}, {2, 3, 1, 0}, {1, 2, 3, 0}};
        desc.compare = by_direction;
        desc.compare_ctx = &direction;
        ck_assert_status(mtask_queue_init(&queue, &desc), MTASK_OK);
        put_longs(&queue, (const long[]){2, 3, 1, 0});
        check_longs(&queue, expected[direction + 1]);
        ck_assert_status(mtask_queue_deinit(&queue), MTASK_OK);
    }
}
END_TEST

/* Any negative or positive number will do, the extremes too. */
static int by_extremes(const void *a, const void *b, void *ctx) {
    int order = by_long(a, b, ctx);
    return order < 0 ? INT32_MIN : order > 0 ? INT32_MAX : 0;
}

START_TEST(compare_may_answer_any_number) {
    mtask_queue queue;
    mtask_queue_desc desc = describe(MTASK_PRIORITY, 6, sizeof(long));
    desc.compare = by_extremes;
    ck_assert_status(mtask_queue_init(&queue, &desc), MTASK_OK);
    put_longs(&queue, (const long[]){4, 2, 6, 1, 3, 5, 0});
    check_longs(&queue, (const long[]){1, 2, 3, 4, 5, 6, 0});
    ck_assert_status(mtask_queue_deinit(&queue), MTASK_OK);
}
END_TEST

/* ---- random operations, each checked against a model that is too simple to be wrong ---- */

typedef struct model_item {
    unsigned char rank;
    uint64_t serial;
} model_item;

typedef struct model {
    mtask_queue queue;
    mtask_queue_kind kind;
    size_t capacity;
    size_t item_size;
    model_item *items; /* in the order of their puts */
    size_t count;
    size_t room; /* for `items` */
    size_t unfinished;
    uint64_t serial; /* of the next */
    unsigned ranks;
    bool closed;
    unsigned char *buffer; /* for items that go to the queue or come from it */
    testing_random random;
} model;

/* More than a bounded queue holds, and than an unbounded one is to hold. */
#define MODEL_BATCH 80

static void model_open(model *self, mtask_queue_kind kind, size_t capacity, size_t item_size,
                       testing_random random) {
    mtask_queue_desc desc = describe(kind, capacity, item_size);
    memset(self, 0, sizeof *self);
    self->kind = kind;
    self->capacity = capacity;
    self->item_size = item_size;
    self->random = random;
    self->ranks = 1 + (unsigned)testing_below(&self->random, 20);
    self->room = 4096;
    self->items = (model_item *)calloc(self->room, sizeof *self->items);
    self->buffer = (unsigned char *)malloc((MODEL_BATCH + 1) * item_size + 8);
    testing_check(self->items != NULL && self->buffer != NULL);
    ck_assert_status(mtask_queue_init(&self->queue, &desc), MTASK_OK);
}

static void model_close(model *self) {
    ck_assert_status(mtask_queue_deinit(&self->queue), MTASK_OK);
    free(self->items);
    free(self->buffer);
}

/* The place in `items` of what comes out next. */
static size_t model_next(const model *self) {
    size_t next = 0;
    if (self->kind == MTASK_LIFO)
        return self->count - 1;
    if (self->kind == MTASK_PRIORITY)
        for (size_t i = 1; i < self->count; i++)
            if (self->items[i].rank < self->items[next].rank)
                next = i;
    return next;
}

/* Takes out of the model what comes next; the item that came from the queue must be that. */
static void model_take(model *self, const unsigned char *item) {
    size_t next = model_next(self);
    testing_check(self->count > 0);
    testing_check(item_is(item, self->item_size, self->items[next].rank, self->items[next].serial));
    self->count--;
    memmove(self->items + next, self->items + next + 1, (self->count - next) * sizeof *self->items);
}

static size_t model_free(const model *self) {
    size_t limit = self->capacity == MTASK_UNBOUNDED ? self->room : self->capacity;
    return limit - self->count;
}

/* Writes `n` new items to `buffer`; the model does not have them yet. */
static void model_prepare(model *self, unsigned char *buffer, size_t n, model_item *made) {
    for (size_t i = 0; i < n; i++) {
        made[i].rank = (unsigned char)testing_below(&self->random, self->ranks);
        made[i].serial = self->serial + i;
        write_item(buffer + i * self->item_size, self->item_size, made[i].rank, made[i].serial);
    }
}

static void model_add(model *self, const model_item *made, size_t n) {
    for (size_t i = 0; i < n; i++)
        self->items[self->count++] = made[i];
    self->serial += n;
    self->unfinished += n;
}

/* A batch length: mostly short, sometimes none at all, sometimes longer than the queue. */
static size_t model_length(model *self) {
    return (size_t)testing_below(&self->random,
                                 testing_below(&self->random, 4) == 0 ? MODEL_BATCH + 1 : 6);
}

static void model_put(model *self, unsigned char *buffer) {
    model_item made;
    bool fits = model_free(self) > 0;
    if (self->capacity == MTASK_UNBOUNDED && !fits)
        return;
    model_prepare(self, buffer, 1, &made);
    ck_assert_status(mtask_queue_put(&self->queue, buffer, MTASK_NOWAIT), self->closed
                                                                              ? MTASK_CLOSED
                                                                          : fits ? MTASK_OK
                                                                                 : MTASK_FULL);
    if (!self->closed && fits)
        model_add(self, &made, 1);
}

static void model_get(model *self, unsigned char *buffer) {
    mtask_status status = mtask_queue_get(&self->queue, buffer, MTASK_NOWAIT);
    if (self->count == 0) {
        ck_assert_status(status, self->closed ? MTASK_CLOSED : MTASK_EMPTY);
        return;
    }
    ck_assert_status(status, MTASK_OK);
    model_take(self, buffer);
}

static void model_put_many(model *self, unsigned char *buffer) {
    model_item made[MODEL_BATCH];
    size_t n = model_length(self);
    size_t fit = self->closed ? 0 : model_free(self) < n ? model_free(self) : n;
    size_t moved = 9999;
    mtask_status status;
    if (n == 0 || (self->capacity == MTASK_UNBOUNDED && fit < n && !self->closed))
        return;
    model_prepare(self, buffer, n, made);
    status = mtask_queue_put_many(&self->queue, buffer, n, &moved, MTASK_NOWAIT);
    ck_assert_status(status, self->closed ? MTASK_CLOSED : fit < n ? MTASK_FULL : MTASK_OK);
    testing_check(moved == fit);
    model_add(self, made, fit);
}

static void model_get_many(model *self, unsigned char *buffer) {
    size_t n = model_length(self);
    size_t fit = self->count < n ? self->count : n;
    size_t moved = 9999;
    mtask_status status;
    if (n == 0)
        return;
    buffer[n * self->item_size] = 0xA5;
    status = mtask_queue_get_many(&self->queue, buffer, n, &moved, MTASK_NOWAIT);
    ck_assert_status(status, fit > 0 ? MTASK_OK : self->closed ? MTASK_CLOSED : MTASK_EMPTY);
    testing_check(moved == fit);
    testing_check(buffer[n * self->item_size] == 0xA5);
    for (size_t i = 0; i < fit; i++)
        model_take(self, buffer + i * self->item_size);
}

static void model_peek(model *self, unsigned char *buffer) {
    mtask_status status = mtask_queue_peek(&self->queue, buffer);
    model_item next;
    if (self->count == 0) {
        ck_assert_status(status, self->closed ? MTASK_CLOSED : MTASK_EMPTY);
        return;
    }
    ck_assert_status(status, MTASK_OK);
    next = self->items[model_next(self)];
    testing_check(item_is(buffer, self->item_size, next.rank, next.serial));
}

static void model_task_done(model *self) {
    ck_assert_status(mtask_queue_join(&self->queue, MTASK_NOWAIT),
                     self->unfinished == 0 ? MTASK_OK : MTASK_TIMEOUT);
    ck_assert_status(mtask_queue_task_done(&self->queue),
                     self->unfinished == 0 ? MTASK_OVERFLOW : MTASK_OK);
    self->unfinished -= self->unfinished != 0;
}

static void model_see_discarded(void *item, void *ctx) {
    model_take((model *)ctx, (const unsigned char *)item);
}

static void model_discard(model *self) {
    size_t count = self->count, discarded = 9999;
    if (testing_below(&self->random, 2) == 0) {
        ck_assert_status(mtask_queue_discard(&self->queue, NULL, NULL, &discarded), MTASK_OK);
        self->count = 0;
    } else {
        ck_assert_status(mtask_queue_discard(&self->queue, model_see_discarded, self, &discarded),
                         MTASK_OK);
    }
    testing_check(discarded == count);
    testing_check(self->count == 0);
    self->unfinished = self->unfinished > count ? self->unfinished - count : 0;
}

static void model_check(const model *self) {
    const mtask_queue *queue = &self->queue;
    testing_check(mtask_queue_size(queue) == self->count);
    testing_check(mtask_queue_is_empty(queue) == (self->count == 0));
    testing_check(mtask_queue_is_full(queue) == (self->count == self->capacity));
    testing_check(mtask_queue_unfinished(queue) == self->unfinished);
    testing_check(mtask_queue_is_closed(queue) == self->closed);
}

/* `eager` of ten times it puts rather than gets. */
static void model_step(model *self, unsigned eager) {
    unsigned char *buffer = self->buffer + testing_below(&self->random, 8); /* anywhere */
    bool put = testing_below(&self->random, 10) < eager;
    uint64_t draw = testing_below(&self->random, 400);
    if (draw == 0)
        model_discard(self);
    else if (draw < 20)
        model_peek(self, buffer);
    else if (draw < 100)
        model_task_done(self);
    else if (draw < 160)
        (put ? model_put_many : model_get_many)(self, buffer);
    else
        (put ? model_put : model_get)(self, buffer);
    model_check(self);
}

/* Runs many steps, in phases that fill it and phases that drain it; closes it; runs some more. */
static void model_run(model *self, long steps) {
    unsigned eager = 5;
    for (long i = 0; i < steps; i++) {
        if (i % 64 == 0)
            eager = 2 + (unsigned)testing_below(&self->random, 7);
        model_step(self, eager);
    }
    ck_assert_status(mtask_queue_close(&self->queue), MTASK_OK);
    self->closed = true;
    for (long i = 0; i < steps / 8; i++)
        model_step(self, 3);
    while (self->count > 0)
        model_get(self, self->buffer);
    model_get(self, self->buffer);
    model_check(self);
}

static void model_run_kind(mtask_queue_kind kind) {
    testing_random random = testing_random_make(testing_seed(), (unsigned)kind);
    const size_t limits[] = {1, 2, 3, 5, 7, 16, 64, 1000, MTASK_UNBOUNDED};
    long queues = testing_scale(300);
    int64_t start = mtask_now();
    model self;
    for (long i = 0; (i < queues && mtask_now() - start < MTASK_SEC(4)) || i < 9; i++) {
        size_t size = item_sizes[testing_below(&random, COUNT_OF(item_sizes) - 1)];
        model_open(&self, kind, limits[i % 9], size, testing_random_make(testing_next(&random), 0));
        model_run(&self, 1500);
        model_close(&self);
    }
}

START_TEST(fifo_behaves_like_its_model) {
    model_run_kind(MTASK_FIFO);
}
END_TEST

START_TEST(lifo_behaves_like_its_model) {
    model_run_kind(MTASK_LIFO);
}
END_TEST

START_TEST(priority_behaves_like_its_model) {
    model_run_kind(MTASK_PRIORITY);
}
END_TEST

/* ---- counts that wrap around ---- */

/* Has the counts start anew so often that it happens in this test, not only after 2^62 items. The
   span is a multiple of the capacity, and must exceed all that is unfinished. */
static void shorten_span(mtask_queue *queue, size_t span) {
    queue->span = queue->core->span = span;
}

/* Like the other runs, but the work on whatever was taken out is done at once. */
static void wrap_counts(model *self, long steps) {
    unsigned eager = 5;
    for (long i = 0; i < steps; i++) {
        if (i % 16 == 0)
            eager = 2 + (unsigned)testing_below(&self->random, 7);
        while (self->unfinished > self->count)
            model_task_done(self);
        model_step(self, eager);
    }
    self->closed = true;
    ck_assert_status(mtask_queue_close(&self->queue), MTASK_OK);
    while (self->count > 0)
        model_get(self, self->buffer);
    while (self->unfinished > 0)
        model_task_done(self);
    model_get(self, self->buffer);
    model_check(self);
}

START_TEST(counts_wrap_around_without_harm) {
    testing_random random = testing_random_make(testing_seed(), 0);
    long steps = testing_scale(20000);
    for (int kind = 0; kind < KINDS; kind++)
        for (size_t capacity = 1; capacity < 8; capacity++)
            for (size_t times = 3; times < 6; times++) {
                model self;
                model_open(&self, (mtask_queue_kind)kind, capacity, 12,
                           testing_random_make(testing_next(&random), 0));
                shorten_span(&self.queue, times * capacity);
                wrap_counts(&self, steps / 20);
                model_close(&self);
            }
}
END_TEST

/* Batches fill and drain it; the work is done in batches too, so the word that counts it wraps
   while somebody joins. */
START_TEST(join_sees_the_end_though_the_counts_wrap) {
    const size_t spans[] = {15, 20, 25};
    long items[5] = {1, 2, 3, 4, 5};
    for (int kind = 0; kind < KINDS; kind++)
        for (size_t i = 0; i < COUNT_OF(spans); i++) {
            mtask_queue queue;
            open_longs(&queue, (mtask_queue_kind)kind, 5);
            shorten_span(&queue, spans[i]);
            for (int round = 0; round < 30; round++) {
                size_t count = 1 + (size_t)round % 5;
                ck_assert_status(mtask_queue_join(&queue, MTASK_FOREVER), MTASK_OK);
                ck_assert_status(mtask_queue_put_many(&queue, items, count, NULL, 0), MTASK_OK);
                ck_assert_status(mtask_queue_join(&queue, 1), MTASK_TIMEOUT);
                ck_assert_uint_eq(mtask_queue_unfinished(&queue), count);
                while (!mtask_queue_is_empty(&queue))
                    (void)get_long(&queue);
                while (mtask_queue_unfinished(&queue) > 0)
                    ck_assert_status(mtask_queue_task_done(&queue), MTASK_OK);
                ck_assert_status(mtask_queue_task_done(&queue), MTASK_OVERFLOW);
            }
            ck_assert_status(mtask_queue_deinit(&queue), MTASK_OK);
        }
}
END_TEST

/* The numbers that keep equal priorities in order have 32 bits; when they are used up the items are
   numbered anew, with `inside` of them in the queue. */
static void renumber(size_t capacity, uint32_t inside, uint32_t before) {
    mtask_queue_desc desc = describe(MTASK_PRIORITY, capacity, sizeof(ranked));
    mtask_queue queue;
    ranked item, last = {0, 0};
    uint32_t serial = 0, count = 0;
    ck_assert_status(mtask_queue_init(&queue, &desc), MTASK_OK);
    queue.core->stamp = UINT32_MAX - inside / 2 - before;
    memset(&item, 0, sizeof item);
    while (serial < 3 * inside) {
        item.rank = (unsigned char)((serial * 2654435761u >> 16) % 3);
        item.serial = ++serial;
        ck_assert_status(mtask_queue_put(&queue, &item, MTASK_NOWAIT), MTASK_OK);
        if (++count > inside) { /* some go, others have come since: their slots are mixed */
            ck_assert_status(mtask_queue_get(&queue, &item, MTASK_NOWAIT), MTASK_OK);
            count--;
        }
    }
    testing_check(queue.core->stamp < UINT32_MAX / 2); /* it did happen */
    for (; count > 0; count--) {
        ck_assert_status(mtask_queue_get(&queue, &item, MTASK_NOWAIT), MTASK_OK);
        testing_check(item.rank > last.rank ||
                      (item.rank == last.rank && item.serial > last.serial));
        last = item;
    }
    ck_assert_status(mtask_queue_deinit(&queue), MTASK_OK);
}

START_TEST(equal_priorities_keep_their_order_when_their_numbers_are_used_up) {
    for (uint32_t inside = 2; inside < 300; inside = inside * 5 / 3 + 1)
        for (uint32_t before = 0; before < inside; before += 1 + inside / 3) {
            renumber(inside + 1, inside, before);
            renumber(MTASK_UNBOUNDED, inside, before);
        }
}
END_TEST

/* ---- storage of the user's ---- */

/* The bound that is promised. */
static size_t memory_bound(mtask_queue_kind kind, size_t capacity, size_t item_size) {
    return capacity * (item_size + (kind == MTASK_PRIORITY ? 8 : 0)) + 640;
}

#define CANARY 128

/* Uses a queue in storage of just the size it asks for, with bytes behind that must not change. */
static void use_storage(mtask_queue_kind kind, size_t capacity, size_t item_size) {
    mtask_queue_desc desc = describe(kind, capacity, item_size);
    size_t need = mtask_queue_storage_size(&desc);
    unsigned char *memory = NULL;
    mtask_queue queue;
    uint64_t in = 0, out = 0;
    size_t before;
    ck_assert_uint_gt(need, 0);
    ck_assert_uint_le(need, MTASK_QUEUE_STORAGE_SIZE(capacity, item_size));
    ck_assert_uint_le(MTASK_QUEUE_STORAGE_SIZE(capacity, item_size),
                      memory_bound(MTASK_PRIORITY, capacity, item_size));
    ck_assert_uint_le(need, memory_bound(kind, capacity, item_size));
    ck_assert_int_eq(posix_memalign((void **)&memory, MTASK_QUEUE_ALIGN, need + CANARY), 0);
    memset(memory, 0xC3, need + CANARY);
    before = allocations;
    desc.storage = memory;
    desc.storage_size = need;
    ck_assert_status(mtask_queue_init(&queue, &desc), MTASK_OK);
    for (int round = 0; round < 3; round++) {
        fill_to_the_brim(&queue, capacity, 0, &in);
        take_some(&queue, kind, capacity, &out, in);
        out = in;
    }
    fill_to_the_brim(&queue, capacity, 0, &in);
    ck_assert_status(mtask_queue_discard(&queue, NULL, NULL, NULL), MTASK_OK);
    ck_assert_status(mtask_queue_close(&queue), MTASK_OK);
    ck_assert_status(mtask_queue_deinit(&queue), MTASK_OK);
    ck_assert_uint_eq(allocations, before);
    for (size_t i = 0; i < CANARY; i++)
        testing_check(memory[need + i] == 0xC3);
    free(memory);
}

START_TEST(storage_of_the_exact_size_is_enough_and_nothing_is_allocated) {
    for (int kind = 0; kind < KINDS; kind++)
        for (size_t i = 0; i < COUNT_OF(capacities); i++)
            for (size_t j = 0; j < COUNT_OF(item_sizes); j++)
                use_storage((mtask_queue_kind)kind, capacities[i], item_sizes[j]);
}
END_TEST

static void refuse_storage(mtask_queue_kind kind, size_t capacity, size_t item_size) {
    mtask_queue_desc desc = describe(kind, capacity, item_size);
    size_t need = mtask_queue_storage_size(&desc);
    unsigned char *memory = NULL;
    ck_assert_int_eq(posix_memalign((void **)&memory, MTASK_QUEUE_ALIGN, need + 2 * CANARY), 0);
    desc.storage = memory;
    desc.storage_size = need - 1;
    refuse(desc, MTASK_INVALID);
    desc.storage_size = 0;
    refuse(desc, MTASK_INVALID);
    for (size_t off = 1; off < MTASK_QUEUE_ALIGN; off++) {
        desc.storage = memory + off;
        desc.storage_size = need + CANARY;
        refuse(desc, MTASK_INVALID);
    }
    free(memory);
}

START_TEST(storage_too_small_or_misaligned_is_refused) {
    for (int kind = 0; kind < KINDS; kind++) {
        refuse_storage((mtask_queue_kind)kind, 1, 1);
        refuse_storage((mtask_queue_kind)kind, 3, 7);
        refuse_storage((mtask_queue_kind)kind, 64, 8);
    }
}
END_TEST

START_TEST(storage_size_is_zero_where_there_can_be_no_queue) {
    mtask_queue_desc desc = describe(MTASK_FIFO, 0, 4);
    ck_assert_uint_eq(mtask_queue_storage_size(NULL), 0);
    ck_assert_uint_eq(mtask_queue_storage_size(&desc), 0);
    desc = describe(MTASK_FIFO, 4, 0);
    ck_assert_uint_eq(mtask_queue_storage_size(&desc), 0);
    desc = describe(MTASK_FIFO, MTASK_UNBOUNDED, 4);
    ck_assert_uint_eq(mtask_queue_storage_size(&desc), 0);
    desc = describe((mtask_queue_kind)7, 4, 4);
    ck_assert_uint_eq(mtask_queue_storage_size(&desc), 0);
    desc = describe(MTASK_LIFO, SIZE_MAX / 2, 4);
    ck_assert_uint_eq(mtask_queue_storage_size(&desc), 0);
}
END_TEST

START_TEST(the_storage_macro_makes_storage_for_each_kind) {
    static MTASK_QUEUE_STORAGE(storage, 5, 3);
    for (int kind = 0; kind < KINDS; kind++) {
        mtask_queue_desc desc = describe((mtask_queue_kind)kind, 5, 3);
        mtask_queue queue;
        uint64_t in = 0;
        desc.storage = storage;
        desc.storage_size = sizeof storage;
        ck_assert_status(mtask_queue_init(&queue, &desc), MTASK_OK);
        fill_to_the_brim(&queue, 5, 0, &in);
        ck_assert_status(mtask_queue_deinit(&queue), MTASK_OK);
    }
}
END_TEST

START_TEST(a_bounded_queue_allocates_once_and_within_its_bound) {
    for (int kind = 0; kind < KINDS; kind++)
        for (size_t i = 0; i < COUNT_OF(capacities); i++)
            for (size_t j = 0; j < COUNT_OF(item_sizes); j++) {
                mtask_queue_desc desc =
                    describe((mtask_queue_kind)kind, capacities[i], item_sizes[j]);
                mtask_queue queue;
                uint64_t in = 0;
                size_t calls = allocations, bytes = allocated_bytes;
                ck_assert_status(mtask_queue_init(&queue, &desc), MTASK_OK);
                testing_check(allocated_bytes - bytes <=
                              memory_bound(desc.kind, capacities[i], item_sizes[j]));
                testing_check(allocations == calls + 1);
                fill_to_the_brim(&queue, capacities[i], 0, &in);
                ck_assert_status(mtask_queue_close(&queue), MTASK_OK);
                ck_assert_status(mtask_queue_discard(&queue, NULL, NULL, NULL), MTASK_OK);
                ck_assert_status(mtask_queue_deinit(&queue), MTASK_OK);
                testing_check(allocations == calls + 1);
            }
}
END_TEST

/* ---- timeouts ---- */

START_TEST(negative_timeouts_are_refused_and_move_nothing) {
    mtask_queue queue;
    long item = 5;
    size_t moved = 9;
    const int64_t negative[] = {-1, MTASK_MS(-20), INT64_MIN};
    for (int kind = 0; kind < KINDS; kind++) {
        open_longs(&queue, (mtask_queue_kind)kind, 1);
        for (size_t i = 0; i < 3 * COUNT_OF(negative); i++) {
            int64_t timeout = negative[i % 3];
            ck_assert_status(mtask_queue_put(&queue, &item, timeout), MTASK_INVALID);
            ck_assert_status(mtask_queue_get(&queue, &item, timeout), MTASK_INVALID);
            ck_assert_status(mtask_queue_put_many(&queue, &item, 1, &moved, timeout),
                             MTASK_INVALID);
            ck_assert_uint_eq(moved, 0);
            moved = 9;
            ck_assert_status(mtask_queue_get_many(&queue, &item, 1, &moved, timeout),
                             MTASK_INVALID);
            ck_assert_uint_eq(moved, 0);
            ck_assert_status(mtask_queue_join(&queue, timeout), MTASK_INVALID);
            ck_assert_uint_eq(mtask_queue_size(&queue), i < 3 ? 0 : 1);
            if (i == 2)
                put_long(&queue, 7); /* from now on it is full */
            if (i == 5)
                ck_assert_status(mtask_queue_close(&queue), MTASK_OK);
        }
        ck_assert_int_eq(item, 5);
        ck_assert_int_eq(get_long(&queue), 7);
        ck_assert_status(mtask_queue_deinit(&queue), MTASK_OK);
    }
}
END_TEST

static void wait_in_vain(mtask_queue *queue, bool full, int64_t timeout) {
    long item = -1;
    size_t moved = 9;
    int64_t start = mtask_now();
    if (full)
        ck_assert_status(mtask_queue_put(queue, &item, timeout), MTASK_FULL);
    else
        ck_assert_status(mtask_queue_get(queue, &item, timeout), MTASK_EMPTY);
    ck_assert_int_ge(mtask_now() - start, timeout);
    start = mtask_now();
    if (full)
        ck_assert_status(mtask_queue_put_many(queue, &item, 1, &moved, timeout), MTASK_FULL);
    else
        ck_assert_status(mtask_queue_get_many(queue, &item, 1, &moved, timeout), MTASK_EMPTY);
    ck_assert_int_ge(mtask_now() - start, timeout);
    ck_assert_uint_eq(moved, 0);
}

START_TEST(timed_waits_take_their_time_and_leave_the_queue_in_order) {
    mtask_queue queue;
    for (int kind = 0; kind < KINDS; kind++)
        for (int bounded = 0; bounded < 2; bounded++) {
            open_longs(&queue, (mtask_queue_kind)kind, bounded ? 2 : MTASK_UNBOUNDED);
            wait_in_vain(&queue, false, 1);
            wait_in_vain(&queue, false, MTASK_MS(15));
            put_longs(&queue, (const long[]){1, 2, 0});
            if (bounded) {
                wait_in_vain(&queue, true, 1);
                wait_in_vain(&queue, true, MTASK_MS(15));
            }
            check_longs(&queue,
                        kind == MTASK_LIFO ? (const long[]){2, 1, 0} : (const long[]){1, 2, 0});
            ck_assert_status(mtask_queue_deinit(&queue), MTASK_OK);
        }
}
END_TEST

/* ---- waiting ---- */

static void get_forever(testing_member *self) {
    self->status = mtask_queue_get((mtask_queue *)self->arg, &self->number, MTASK_FOREVER);
}

static void get_for_a_minute(testing_member *self) {
    self->status = mtask_queue_get((mtask_queue *)self->arg, &self->number, MTASK_SEC(60));
}

/* Puts 100 and its index. */
static void put_forever(testing_member *self) {
    self->number = 100 + self->index;
    self->status = mtask_queue_put((mtask_queue *)self->arg, &self->number, MTASK_FOREVER);
}

static void put_for_a_minute(testing_member *self) {
    self->number = 100 + self->index;
    self->status = mtask_queue_put((mtask_queue *)self->arg, &self->number, MTASK_SEC(60));
}

START_TEST(a_waiting_getter_gets_what_is_put) {
    for (int kind = 0; kind < KINDS; kind++)
        for (int variant = 0; variant < 4; variant++) {
            mtask_queue queue;
            testing_crowd crowd;
            open_longs(&queue, (mtask_queue_kind)kind, variant % 2 ? 2 : MTASK_UNBOUNDED);
            testing_crowd_start(&crowd, 1, variant < 2 ? get_forever : get_for_a_minute, &queue);
            testing_await_asleep(&crowd.members[0]);
            put_long(&queue, 42);
            testing_crowd_join(&crowd);
            ck_assert_status(crowd.members[0].status, MTASK_OK);
            ck_assert_int_eq(crowd.members[0].number, 42);
            check_sizes(&queue, 0, false);
            ck_assert_status(mtask_queue_deinit(&queue), MTASK_OK);
        }
}
END_TEST

START_TEST(a_waiting_putter_goes_on_when_there_is_room) {
    for (int kind = 0; kind < KINDS; kind++)
        for (int variant = 0; variant < 2; variant++) {
            mtask_queue queue;
            testing_crowd crowd;
            open_longs(&queue, (mtask_queue_kind)kind, 2);
            put_longs(&queue, (const long[]){1, 2, 0});
            testing_crowd_start(&crowd, 1, variant ? put_forever : put_for_a_minute, &queue);
            testing_await_asleep(&crowd.members[0]);
            ck_assert_int_eq(get_long(&queue), kind == MTASK_LIFO ? 2 : 1);
            testing_crowd_join(&crowd);
            ck_assert_status(crowd.members[0].status, MTASK_OK);
            check_sizes(&queue, 2, true);
            check_longs(&queue,
                        kind == MTASK_LIFO ? (const long[]){100, 1, 0} : (const long[]){2, 100, 0});
            ck_assert_status(mtask_queue_deinit(&queue), MTASK_OK);
        }
}
END_TEST

/* Each item lets one getter go, however they are put. */
START_TEST(as_many_getters_go_on_as_there_are_items) {
    const long three[] = {7, 8, 9};
    for (int kind = 0; kind < KINDS; kind++)
        for (int bounded = 0; bounded < 2; bounded++) {
            mtask_queue queue;
            testing_crowd crowd;
            size_t moved = 0;
            long sum = 0;
            open_longs(&queue, (mtask_queue_kind)kind, bounded ? 3 : MTASK_UNBOUNDED);
            testing_crowd_start(&crowd, 6, get_forever, &queue);
            testing_crowd_await_asleep(&crowd, 6);
            ck_assert_status(mtask_queue_put_many(&queue, three, 3, &moved, 0), MTASK_OK);
            testing_await_finished(&crowd, 3);
            testing_crowd_await_settled(&crowd);
            ck_assert_int_eq(testing_crowd_finished(&crowd), 3);
            put_long(&queue, 10);
            testing_await_finished(&crowd, 4);
            testing_crowd_await_settled(&crowd);
            ck_assert_int_eq(testing_crowd_finished(&crowd), 4);
            put_longs(&queue, (const long[]){11, 12, 0});
            testing_crowd_join(&crowd);
            for (int i = 0; i < 6; i++)
                sum += crowd.members[i].number;
            ck_assert_int_eq(sum, 7 + 8 + 9 + 10 + 11 + 12);
            check_sizes(&queue, 0, false);
            ck_assert_status(mtask_queue_deinit(&queue), MTASK_OK);
        }
}
END_TEST

START_TEST(as_many_putters_go_on_as_there_is_room) {
    for (int kind = 0; kind < KINDS; kind++) {
        mtask_queue queue;
        testing_crowd crowd;
        long got[9], sum = 0;
        size_t moved = 0;
        open_longs(&queue, (mtask_queue_kind)kind, 3);
        put_longs(&queue, (const long[]){1, 2, 3, 0});
        testing_crowd_start(&crowd, 6, put_forever, &queue);
        testing_crowd_await_asleep(&crowd, 6);
        ck_assert_status(mtask_queue_get_many(&queue, got, 2, &moved, 0), MTASK_OK);
        testing_await_finished(&crowd, 2);
        testing_crowd_await_settled(&crowd);
        ck_assert_int_eq(testing_crowd_finished(&crowd), 2);
        for (size_t count = 2; count < 9; count++) {
            ck_assert_status(mtask_queue_get(&queue, &got[count], MTASK_FOREVER), MTASK_OK);
        }
        testing_crowd_join(&crowd);
        for (int i = 0; i < 9; i++)
            sum += got[i];
        ck_assert_int_eq(sum, 1 + 2 + 3 + 6 * 100 + 15);
        check_sizes(&queue, 0, false);
        ck_assert_status(mtask_queue_deinit(&queue), MTASK_OK);
    }
}
END_TEST

/* Throwing items away makes room just as taking them does. */
START_TEST(discard_lets_waiting_putters_go_on) {
    for (int kind = 0; kind < KINDS; kind++) {
        mtask_queue queue;
        testing_crowd crowd;
        size_t discarded = 0;
        open_longs(&queue, (mtask_queue_kind)kind, 3);
        put_longs(&queue, (const long[]){1, 2, 3, 0});
        testing_crowd_start(&crowd, 3, put_forever, &queue);
        testing_crowd_await_asleep(&crowd, 3);
        ck_assert_status(mtask_queue_discard(&queue, NULL, NULL, &discarded), MTASK_OK);
        ck_assert_uint_eq(discarded, 3);
        testing_crowd_join(&crowd);
        ck_assert_int_eq(testing_crowd_count(&crowd, MTASK_OK), 3);
        check_sizes(&queue, 3, true);
        ck_assert_status(mtask_queue_deinit(&queue), MTASK_OK);
    }
}
END_TEST

static void get_for_20_ms(testing_member *self) {
    int64_t start = mtask_now();
    self->status = mtask_queue_get((mtask_queue *)self->arg, &self->number, MTASK_MS(20));
    self->took = mtask_now() - start;
}

/* Waiters who give up swallow no item that others wait for. */
START_TEST(getters_who_give_up_leave_the_items_to_others) {
    for (int kind = 0; kind < KINDS; kind++) {
        mtask_queue queue;
        testing_crowd crowd;
        open_longs(&queue, (mtask_queue_kind)kind, 4);
        testing_crowd_start(&crowd, 3, get_for_20_ms, &queue);
        (void)testing_crowd_add(&crowd, get_forever, &queue);
        testing_await_finished(&crowd, 3);
        for (int i = 0; i < 3; i++) {
            ck_assert_status(crowd.members[i].status, MTASK_EMPTY);
            ck_assert_int_ge(crowd.members[i].took, MTASK_MS(20));
        }
        testing_crowd_await_asleep(&crowd, 1);
        put_long(&queue, 5);
        testing_crowd_join(&crowd);
        ck_assert_int_eq(crowd.members[3].number, 5);
        ck_assert_status(mtask_queue_deinit(&queue), MTASK_OK);
    }
}
END_TEST

START_TEST(waits_go_on_after_signals_and_use_no_cpu) {
    testing_catch_signals();
    for (int kind = 0; kind < KINDS; kind++) {
        mtask_queue queue;
        testing_crowd getter, putter;
        open_longs(&queue, (mtask_queue_kind)kind, 1);
        testing_crowd_start(&getter, 1, get_forever, &queue);
        testing_interrupt(&getter.members[0]);
        testing_check_idle(&getter.members[0]);
        put_long(&queue, 5);
        testing_crowd_join(&getter);
        ck_assert_int_eq(getter.members[0].number, 5);
        put_long(&queue, 6);
        testing_crowd_start(&putter, 1, put_for_a_minute, &queue);
        testing_interrupt(&putter.members[0]);
        testing_check_idle(&putter.members[0]);
        ck_assert_int_eq(get_long(&queue), 6);
        testing_crowd_join(&putter);
        ck_assert_int_eq(get_long(&queue), 100);
        ck_assert_status(mtask_queue_deinit(&queue), MTASK_OK);
    }
}
END_TEST

START_TEST(deinit_refuses_a_queue_that_somebody_waits_on) {
    for (int kind = 0; kind < KINDS; kind++) {
        mtask_queue queue;
        testing_crowd crowd;
        open_longs(&queue, (mtask_queue_kind)kind, 1);
        testing_crowd_start(&crowd, 1, get_forever, &queue);
        testing_await_asleep(&crowd.members[0]);
        ck_assert_status(mtask_queue_deinit(&queue), MTASK_INVALID);
        put_long(&queue, 1); /* and it is as it was */
        testing_crowd_join(&crowd);
        put_long(&queue, 2);
        testing_crowd_start(&crowd, 1, put_forever, &queue);
        testing_await_asleep(&crowd.members[0]);
        ck_assert_status(mtask_queue_deinit(&queue), MTASK_INVALID);
        ck_assert_int_eq(get_long(&queue), 2);
        testing_crowd_join(&crowd);
        ck_assert_status(mtask_queue_deinit(&queue), MTASK_OK);
    }
}
END_TEST

/* ---- several threads ---- */

#define HANDOFFS 4

typedef struct handoff {
    mtask_queue there;
    mtask_queue back;
} handoff;

static void answer(testing_member *self) {
    handoff *on = (handoff *)self->arg;
    long item = 0;
    while (mtask_queue_get(&on->there, &item, MTASK_FOREVER) == MTASK_OK)
        ck_assert_status(mtask_queue_put(&on->back, &item, MTASK_FOREVER), MTASK_OK);
}

/* Ping-pong through queues of one: each wake-up is needed, so none may get lost. */
START_TEST(queues_of_one_hand_over_and_back) {
    for (int kind = 0; kind < KINDS; kind++) {
        handoff on;
        testing_crowd crowd;
        long rounds = testing_scale(4000);
        int64_t start = mtask_now();
        open_longs(&on.there, (mtask_queue_kind)kind, 1);
        open_longs(&on.back, (mtask_queue_kind)kind, 1);
        testing_crowd_start(&crowd, HANDOFFS, answer, &on);
        for (long i = 0; i < rounds && testing_has_time(start); i++) {
            long item = i;
            ck_assert_status(mtask_queue_put(&on.there, &item, MTASK_FOREVER), MTASK_OK);
            ck_assert_status(mtask_queue_get(&on.back, &item, MTASK_FOREVER), MTASK_OK);
            testing_check(item == i);
        }
        ck_assert_status(mtask_queue_close(&on.there), MTASK_OK);
        testing_crowd_join(&crowd);
        ck_assert_status(mtask_queue_deinit(&on.there), MTASK_OK);
        ck_assert_status(mtask_queue_deinit(&on.back), MTASK_OK);
    }
}
END_TEST

typedef struct traffic {
    mtask_queue queue;
    size_t capacity;
    long each; /* how many items each putter puts, if there is time */
    int64_t start;
} traffic;

static void put_traffic(testing_member *self) {
    traffic *on = (traffic *)self->arg;
    for (long i = 0; i < on->each && testing_has_time(on->start); i++) {
        long item = i * 8 + self->index;
        ck_assert_status(mtask_queue_put(&on->queue, &item, MTASK_FOREVER), MTASK_OK);
        self->number += item;
    }
}

/* Adds up what it gets, and sees to it that each putter's items come in their order. */
static void get_traffic(testing_member *self) {
    traffic *on = (traffic *)self->arg;
    bool fifo = on->queue.kind == MTASK_FIFO;
    long last[8], item = 0;
    memset(last, -1, sizeof last);
    while (mtask_queue_get(&on->queue, &item, MTASK_FOREVER) == MTASK_OK) {
        testing_check(!fifo || item / 8 > last[item % 8]);
        last[item % 8] = item / 8;
        self->number += item;
    }
}

/* What is counted is always what there may be. */
static void watch_traffic(testing_member *self) {
    traffic *on = (traffic *)self->arg;
    while (!mtask_queue_is_closed(&on->queue)) {
        size_t size = mtask_queue_size(&on->queue);
        testing_check(size <= on->capacity);
        testing_check(mtask_queue_unfinished(&on->queue) <= (size_t)on->each * 2);
        self->number++;
        sched_yield();
    }
}

static void run_traffic(mtask_queue_kind kind, size_t capacity) {
    traffic on;
    testing_crowd putters, getters;
    long sum = 0;
    on.capacity = capacity;
    on.each = testing_scale(12000);
    on.start = mtask_now();
    open_longs(&on.queue, kind, capacity);
    testing_crowd_start(&getters, 2, get_traffic, &on);
    (void)testing_crowd_add(&getters, watch_traffic, &on);
    testing_crowd_start(&putters, 2, put_traffic, &on);
    testing_crowd_join(&putters);
    ck_assert_status(mtask_queue_close(&on.queue), MTASK_OK);
    testing_crowd_join(&getters);
    for (int i = 0; i < 2; i++)
        sum += putters.members[i].number - getters.members[i].number;
    ck_assert_int_eq(sum, 0);
    ck_assert(mtask_queue_is_empty(&on.queue));
    ck_assert_status(mtask_queue_deinit(&on.queue), MTASK_OK);
}

START_TEST(nothing_is_lost_or_doubled_between_threads) {
    for (int kind = 0; kind < KINDS; kind++) {
        run_traffic((mtask_queue_kind)kind, 1);
        run_traffic((mtask_queue_kind)kind, 3);
        run_traffic((mtask_queue_kind)kind, 1000);
        run_traffic((mtask_queue_kind)kind, MTASK_UNBOUNDED);
    }
}
END_TEST

/* ---- fork ---- */

START_TEST(a_forked_child_goes_on_with_its_copy) {
    for (int kind = 0; kind < KINDS; kind++) {
        mtask_queue queue;
        int status = 0;
        pid_t pid;
        open_longs(&queue, (mtask_queue_kind)kind, 3);
        put_longs(&queue, (const long[]){1, 2, 0});
        pid = fork();
        ck_assert_int_ge(pid, 0);
        if (pid == 0) {
            put_long(&queue, 3);
            check_longs(&queue, kind == MTASK_LIFO ? (const long[]){3, 2, 1, 0}
                                                   : (const long[]){1, 2, 3, 0});
            _exit(0);
        }
        ck_assert_int_eq(waitpid(pid, &status, 0), pid);
        ck_assert_int_eq(status, 0);
        check_sizes(&queue, 2, false); /* each has its own */
        ck_assert_status(mtask_queue_deinit(&queue), MTASK_OK);
    }
}
END_TEST

TESTING_MAIN(
    "queue", init_refuses_missing_arguments, init_refuses_capacity_or_item_size_zero,
    init_refuses_unknown_kinds_and_flags, only_priority_queues_compare_and_they_must,
    init_refuses_what_cannot_be_shared, init_refuses_more_than_the_address_space_holds,
    an_ended_queue_can_be_made_again, deinit_refuses_what_is_not_initialised,
    deinit_drops_what_is_left, missing_arguments_are_refused, typed_queues_need_no_cast,
    typed_queues_hold_structures, typed_queues_hold_pointers, fifo_gives_in_the_order_of_puts,
    lifo_gives_the_last_first, priority_gives_the_least_first, queues_of_five_fill_and_drain_twice,
    unbounded_queues_are_never_full, an_unbounded_fifo_keeps_its_order_while_it_grows_and_shrinks,
    an_unbounded_queue_can_be_filled_again_after_it_was_drained,
    an_unbounded_queue_grows_within_a_batch, peek_shows_what_get_would_take,
    fifo_holds_exactly_its_capacity, lifo_holds_exactly_its_capacity,
    priority_holds_exactly_its_capacity, items_may_lie_at_any_address, callbacks_see_aligned_items,
    batches_tell_how_many_were_moved, batches_cross_the_end_of_the_ring,
    batches_follow_the_order_of_the_kind, a_batch_may_be_longer_than_the_queue,
    equal_priorities_come_out_as_they_came_in, compare_is_handed_its_context,
    compare_may_answer_any_number, fifo_behaves_like_its_model, lifo_behaves_like_its_model,
    priority_behaves_like_its_model, counts_wrap_around_without_harm,
    join_sees_the_end_though_the_counts_wrap,
    equal_priorities_keep_their_order_when_their_numbers_are_used_up,
    storage_of_the_exact_size_is_enough_and_nothing_is_allocated,
    storage_too_small_or_misaligned_is_refused, storage_size_is_zero_where_there_can_be_no_queue,
    the_storage_macro_makes_storage_for_each_kind,
    a_bounded_queue_allocates_once_and_within_its_bound,
    negative_timeouts_are_refused_and_move_nothing,
    timed_waits_take_their_time_and_leave_the_queue_in_order, a_waiting_getter_gets_what_is_put,
    a_waiting_putter_goes_on_when_there_is_room, as_many_getters_go_on_as_there_are_items,
    as_many_putters_go_on_as_there_is_room, discard_lets_waiting_putters_go_on,
    getters_who_give_up_leave_the_items_to_others, waits_go_on_after_signals_and_use_no_cpu,
    deinit_refuses_a_queue_that_somebody_waits_on, queues_of_one_hand_over_and_back,
    nothing_is_lost_or_doubled_between_threads, a_forked_child_goes_on_with_its_copy)
