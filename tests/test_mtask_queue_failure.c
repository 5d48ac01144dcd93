/* test_mtask_queue_failure.c - queues when memory, descriptors or waits are refused
// standalone: it holds the implementation itself, with the calls of the system that may fail
   replaced by ones that fail when they are told to. */
#define _GNU_SOURCE 1
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <linux/futex.h>

/* ---- where failures can be injected ---- */

typedef enum point {
    AT_MEMORY,
    AT_WAIT,  /* a futex wait; without futex, what a wait needs of pthread */
    AT_CLOCK, /* clock_gettime */
    POINTS
} point;

#include "testing_inject.h"

static long live_blocks; /* of memory */
static long live_bytes;  /* in them */

/* ---- the replaced calls ---- */

/* More than this there never is; real allocators differ in what they say to such sizes. */
#define MOST_MEMORY ((size_t)1 << 30)
#define BLOCK_HEAD  16 /* keeps the alignment of what follows */

static void *fake_realloc(void *memory, size_t size) {
    char *old = memory != NULL ? (char *)memory - BLOCK_HEAD : NULL;
    size_t old_size = 0;
    char *block;
    if (fails_at(AT_MEMORY) || size > MOST_MEMORY)
        return NULL;
    if (old != NULL)
        memcpy(&old_size, old, sizeof old_size);
    block = (char *)realloc(old, size + BLOCK_HEAD);
    if (block == NULL)
        return NULL;
    memcpy(block, &size, sizeof size);
    add(&live_blocks, old == NULL);
    add(&live_bytes, (long)size - (long)old_size);
    return block + BLOCK_HEAD;
}

static void *fake_malloc(size_t size) {
    return fake_realloc(NULL, size);
}

static void fake_free(void *memory) {
    size_t size;
    if (memory == NULL)
        return;
    memcpy(&size, (char *)memory - BLOCK_HEAD, sizeof size);
    add(&live_blocks, -1);
    add(&live_bytes, -(long)size);
    free((char *)memory - BLOCK_HEAD);
}

static int fake_clock_gettime(clockid_t clock, struct timespec *time) {
    if (fails_at(AT_CLOCK)) {
        errno = injections[AT_CLOCK].error;
        return -1;
    }
    return clock_gettime(clock, time);
}

#ifdef MTASK_FORCE_POSIX
static int fake_cond_init(pthread_cond_t *cond, const pthread_condattr_t *attr) {
    return fails_at(AT_WAIT) ? injections[AT_WAIT].error : pthread_cond_init(cond, attr);
}
#endif

/* Whether a system call is one that waits. */
static bool is_wait(long number, long operation) {
    bool futex = number == SYS_futex;
#ifdef SYS_futex_time64
    futex = futex || number == SYS_futex_time64;
#endif
    operation &= FUTEX_CMD_MASK;
    return futex && (operation == FUTEX_WAIT || operation == FUTEX_WAIT_BITSET);
}

static long fake_syscall(long number, ...) {
    long a[6];
    va_list args;
    va_start(args, number);
    for (int i = 0; i < 6; i++)
        a[i] = va_arg(args, long);
    va_end(args);
    if (is_wait(number, a[1]) && fails_at(AT_WAIT)) {
        errno = injections[AT_WAIT].error;
        return -1;
    }
    return syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

/* ---- the implementation, on top of them ---- */

#define MTASK_MALLOC(size)     fake_malloc(size)
#define MTASK_REALLOC(p, size) fake_realloc((p), (size))
#define MTASK_FREE(p)          fake_free(p)
#define clock_gettime          fake_clock_gettime
#define syscall                fake_syscall
#ifdef MTASK_FORCE_POSIX
# define pthread_cond_init fake_cond_init
#endif
#define MTASK_IMPLEMENTATION
#include "../mtask_queue.h"
#undef clock_gettime
#undef syscall
#undef pthread_cond_init

#include "testing_threads.h"

/* ---- queues of the tests ---- */

#define KINDS 3

/* Many are equal: then they must come out as they came in. */
static int by_last_digit(const void *a, const void *b, void *ctx) {
    long x, y;
    (void)ctx;
    memcpy(&x, a, sizeof x);
    memcpy(&y, b, sizeof y);
    return (int)(x % 10 - y % 10);
}

static mtask_queue_desc describe(mtask_queue_kind kind, size_t capacity) {
    mtask_queue_desc desc = {0};
    desc.kind = kind;
    desc.capacity = capacity;
    desc.item_size = sizeof(long);
    desc.compare = kind == MTASK_PRIORITY ? by_last_digit : NULL;
    return desc;
}

static void open_longs(mtask_queue *queue, mtask_queue_kind kind, size_t capacity) {
    mtask_queue_desc desc = describe(kind, capacity);
    ck_assert_status(mtask_queue_init(queue, &desc), MTASK_OK);
}

static void put_long(mtask_queue *queue, long item) {
    ck_assert_status(mtask_queue_put(queue, &item, MTASK_NOWAIT), MTASK_OK);
}

static long get_long(mtask_queue *queue) {
    long item = -1;
    ck_assert_status(mtask_queue_get(queue, &item, MTASK_NOWAIT), MTASK_OK);
    return item;
}

/* Ends a queue: none of its memory may be left. */
static void end(mtask_queue *queue) {
    ck_assert_status(mtask_queue_deinit(queue), MTASK_OK);
    ck_assert_int_eq(look(&live_blocks), 0);
    ck_assert_int_eq(look(&live_bytes), 0);
}

/* ---- memory that is refused to init ---- */

static void init_without_memory(mtask_queue_kind kind, size_t capacity, long least) {
    mtask_queue_desc desc = describe(kind, capacity);
    mtask_queue queue;
    long first = 1;
    for (;; first++) {
        mtask_status status;
        arm(AT_MEMORY, first, 1, ENOMEM);
        status = mtask_queue_init(&queue, &desc);
        if (disarm(AT_MEMORY) == 0) {
            ck_assert_status(status, MTASK_OK);
            break;
        }
        ck_assert_status(status, MTASK_NOMEM);
        ck_assert_int_eq(look(&live_blocks), 0);
        ck_assert_status(mtask_queue_deinit(&queue), MTASK_INVALID); /* nothing was made */
        ck_assert_int_lt(first, 100);
    }
    ck_assert_int_gt(first, least);
    put_long(&queue, 1);
    ck_assert_int_eq(get_long(&queue), 1);
    end(&queue);
}

START_TEST(init_without_memory_leaves_nothing) {
    for (int kind = 0; kind < KINDS; kind++) {
        init_without_memory((mtask_queue_kind)kind, 1, 1);
        init_without_memory((mtask_queue_kind)kind, 1000, 1);
        init_without_memory((mtask_queue_kind)kind, MTASK_UNBOUNDED,
                            kind == MTASK_PRIORITY ? 4 : 2);
    }
}
END_TEST

START_TEST(what_fits_the_address_space_but_not_memory_is_told) {
    for (int kind = 0; kind < KINDS; kind++) {
        mtask_queue_desc desc = describe((mtask_queue_kind)kind, 1 << 30);
        mtask_queue queue;
        ck_assert_status(mtask_queue_init(&queue, &desc), MTASK_NOMEM);
        desc.capacity = 1;
        desc.item_size = SIZE_MAX / 4;
        ck_assert_status(mtask_queue_init(&queue, &desc), MTASK_NOMEM);
        desc.capacity = MTASK_UNBOUNDED; /* not even the first items of this size have room */
        ck_assert_status(mtask_queue_init(&queue, &desc), MTASK_NOMEM);
        ck_assert_int_eq(look(&live_blocks), 0);
    }
}
END_TEST

/* ---- a queue that cannot grow is whole, and goes on ---- */

/* What is in it comes out in order: 1 to `count`. */
static void check_all(mtask_queue *queue, long count) {
    long next[10], item;
    ck_assert_uint_eq(mtask_queue_size(queue), (size_t)count);
    for (long digit = 0; digit < 10; digit++)
        next[digit] = digit == 0 ? 10 : digit;
    for (long i = 1, digit = 0; i <= count; i++) {
        item = get_long(queue);
        if (queue->kind == MTASK_FIFO)
            testing_check(item == i);
        if (queue->kind == MTASK_LIFO)
            testing_check(item == count + 1 - i);
        if (queue->kind != MTASK_PRIORITY)
            continue;
        testing_check(item % 10 >= digit); /* the lower digits all came before */
        digit = item % 10;
        testing_check(item == next[digit]);
        next[digit] += 10;
    }
    ck_assert_status(mtask_queue_get(queue, &item, MTASK_NOWAIT), MTASK_EMPTY);
}

/* Puts 1 to `count`, and has memory run out at each allocation on the way: no put but that one
   fails. */
static long put_with_failures(mtask_queue *queue, long count) {
    long failures = 0;
    for (long i = 1; i <= count; i++)
        for (long first = 1;; first++) {
            size_t unfinished = mtask_queue_unfinished(queue);
            mtask_status status;
            arm(AT_MEMORY, first, LONG_MAX, ENOMEM);
            status = mtask_queue_put(queue, &i, i % 2 == 0 ? MTASK_NOWAIT : MTASK_FOREVER);
            if (disarm(AT_MEMORY) == 0) {
                ck_assert_status(status, MTASK_OK);
                break;
            }
            ck_assert_status(status, MTASK_NOMEM);
            testing_check(mtask_queue_size(queue) == (size_t)i - 1);
            testing_check(mtask_queue_unfinished(queue) == unfinished);
            failures++;
        }
    return failures;
}

/* A FIFO whose oldest item lies at `at` of its ring, an empty queue of the others. */
static void open_turned(mtask_queue *queue, mtask_queue_kind kind, long at) {
    open_longs(queue, kind, MTASK_UNBOUNDED);
    for (long i = 0; i < at; i++) {
        put_long(queue, i);
        ck_assert_int_eq(get_long(queue), i);
    }
}

START_TEST(a_put_that_finds_no_memory_changes_nothing) {
    for (int kind = 0; kind < KINDS; kind++)
        for (long at = 0; at < 70; at += 7) {
            mtask_queue queue;
            open_turned(&queue, (mtask_queue_kind)kind, at);
            ck_assert_int_ge(put_with_failures(&queue, 3000), kind == MTASK_PRIORITY ? 9 : 3);
            check_all(&queue, 3000);
            ck_assert_int_ge(put_with_failures(&queue, 1000), 1);
            check_all(&queue, 1000);
            end(&queue);
        }
}
END_TEST

START_TEST(a_batch_that_finds_no_memory_tells_how_far_it_came) {
    static long items[5000];
    for (long i = 0; i < 5000; i++)
        items[i] = i + 1;
    for (int kind = 0; kind < KINDS; kind++)
        for (long first = 1; first < 40; first++) {
            mtask_queue queue;
            size_t moved = 9999, rest = 0;
            mtask_status status;
            open_turned(&queue, (mtask_queue_kind)kind, 3 * first);
            arm(AT_MEMORY, first, LONG_MAX, ENOMEM);
            status = mtask_queue_put_many(&queue, items, 5000, &moved, MTASK_FOREVER);
            if (disarm(AT_MEMORY) == 0) {
                ck_assert_status(status, MTASK_OK);
                first = 40;
            } else {
                ck_assert_status(status, MTASK_NOMEM);
                ck_assert_uint_lt(moved, 5000);
                ck_assert_uint_gt(moved, 0);
            }
            ck_assert_uint_eq(mtask_queue_size(&queue), moved);
            ck_assert_status(
                mtask_queue_put_many(&queue, items + moved, 5000 - moved, &rest, MTASK_NOWAIT),
                MTASK_OK);
            ck_assert_uint_eq(moved + rest, 5000);
            check_all(&queue, 5000);
            end(&queue);
        }
}
END_TEST

/* Puts until there is no room without more memory, of which there is none. */
static long fill_up(mtask_queue *queue) {
    mtask_status status;
    long count = 0;
    arm(AT_MEMORY, 1, LONG_MAX, ENOMEM);
    do {
        count++;
        status = mtask_queue_put(queue, &count, MTASK_NOWAIT);
    } while (status == MTASK_OK);
    ck_assert_status(status, MTASK_NOMEM);
    return count - 1;
}

START_TEST(a_select_that_finds_no_memory_tells_which_case_it_was) {
    for (int kind = 0; kind < KINDS; kind++) {
        mtask_queue queues[2];
        mtask_queue_case cases[2];
        long item = 7, count;
        size_t fired = 99;
        open_longs(&queues[0], MTASK_FIFO, 1);
        open_longs(&queues[1], (mtask_queue_kind)kind, MTASK_UNBOUNDED);
        count = fill_up(&queues[1]);
        memset(cases, 0, sizeof cases);
        cases[0].queue = &queues[0];
        cases[0].item = cases[1].item = &item;
        cases[1].queue = &queues[1];
        cases[1].op = MTASK_PUT;
        ck_assert_status(mtask_queue_select(cases, 2, &fired, MTASK_FOREVER), MTASK_NOMEM);
        ck_assert_uint_eq(fired, 1);
        (void)disarm(AT_MEMORY);
        check_all(&queues[1], count);
        ck_assert_status(mtask_queue_deinit(&queues[0]), MTASK_OK);
        end(&queues[1]);
    }
}
END_TEST

/* All but a put that needs room go on without memory. */
START_TEST(only_puts_need_memory) {
    for (int kind = 0; kind < KINDS; kind++) {
        mtask_queue queue;
        long count, item = 0;
        size_t discarded = 0;
        open_longs(&queue, (mtask_queue_kind)kind, MTASK_UNBOUNDED);
        count = fill_up(&queue);
        ck_assert_status(mtask_queue_peek(&queue, &item), MTASK_OK);
        ck_assert_int_eq(get_long(&queue), item);
        put_long(&queue, item); /* there is room for one again */
        ck_assert_status(mtask_queue_put(&queue, &item, MTASK_NOWAIT), MTASK_NOMEM);
        ck_assert_status(mtask_queue_task_done(&queue), MTASK_OK);
        ck_assert_status(mtask_queue_join(&queue, MTASK_NOWAIT), MTASK_TIMEOUT);
        ck_assert_status(mtask_queue_discard(&queue, NULL, NULL, &discarded), MTASK_OK);
        ck_assert_uint_eq(discarded, (size_t)count);
        ck_assert_status(mtask_queue_join(&queue, MTASK_FOREVER), MTASK_OK);
        ck_assert_status(mtask_queue_close(&queue), MTASK_OK);
        (void)disarm(AT_MEMORY);
        end(&queue);
    }
}
END_TEST

/* A drained queue wants to give memory back; it does no harm that this is refused, in part too. */
START_TEST(memory_that_cannot_be_given_back_does_no_harm) {
    for (int kind = 0; kind < KINDS; kind++)
        for (long first = 1; first < 5; first++) {
            mtask_queue queue;
            open_longs(&queue, (mtask_queue_kind)kind, MTASK_UNBOUNDED);
            for (int round = 0; round < 3; round++) {
                for (long i = 1; i <= 5000; i++)
                    put_long(&queue, i);
                arm(AT_MEMORY, first, LONG_MAX, ENOMEM);
                check_all(&queue, 5000);
                (void)disarm(AT_MEMORY);
                ck_assert_int_ge(put_with_failures(&queue, 100), 1);
                check_all(&queue, 100);
            }
            end(&queue);
        }
}
END_TEST

START_TEST(a_drained_queue_gives_its_memory_back) {
    for (int kind = 0; kind < KINDS; kind++) {
        mtask_queue queue;
        long before, most;
        open_longs(&queue, (mtask_queue_kind)kind, MTASK_UNBOUNDED);
        before = look(&live_bytes);
        for (long i = 1; i <= 100000; i++)
            put_long(&queue, i);
        most = look(&live_bytes);
        ck_assert_int_gt(most, 100000 * (long)sizeof(long));
        check_all(&queue, 100000);
        ck_assert_int_lt(look(&live_bytes) - before, most / 10);
        end(&queue);
    }
}
END_TEST

static void get_forever(testing_member *self) {
    self->status = mtask_queue_get((mtask_queue *)self->arg, &self->number, MTASK_FOREVER);
}

/* A batch, of which a part found memory, wakes those whom that part is for. */
START_TEST(getters_are_woken_for_what_was_put_before_memory_ran_out) {
    static long items[1000];
    for (int kind = 0; kind < KINDS; kind++) {
        mtask_queue queue;
        testing_crowd crowd;
        size_t moved = 0;
        open_longs(&queue, (mtask_queue_kind)kind, MTASK_UNBOUNDED);
        testing_crowd_start(&crowd, 4, get_forever, &queue);
        testing_crowd_await_asleep(&crowd, 4);
        arm(AT_MEMORY, 1, LONG_MAX, ENOMEM);
        ck_assert_status(mtask_queue_put_many(&queue, items, 1000, &moved, MTASK_FOREVER),
                         MTASK_NOMEM);
        ck_assert_uint_ge(moved, 4);
        testing_crowd_join(&crowd);
        (void)disarm(AT_MEMORY);
        ck_assert_uint_eq(mtask_queue_size(&queue), moved - 4);
        ck_assert_status(mtask_queue_deinit(&queue), MTASK_OK);
    }
}
END_TEST

/* ---- random operations, some of which find no memory, beside a model ---- */

typedef struct model {
    mtask_queue queue;
    long items[4000]; /* in the order of their puts */
    size_t count;
    long serial;
    long refused;
} model;

static size_t model_next(const model *self) {
    size_t next = 0;
    if (self->queue.kind == MTASK_LIFO)
        return self->count - 1;
    for (size_t i = 1; self->queue.kind == MTASK_PRIORITY && i < self->count; i++)
        if (by_last_digit(&self->items[i], &self->items[next], NULL) < 0)
            next = i;
    return next;
}

static void model_put(model *self, testing_random *random) {
    long batch[60];
    size_t n = 1 + (size_t)testing_below(random, 60), moved = 99;
    mtask_status status;
    if (self->count + n > 4000)
        return;
    for (size_t i = 0; i < n; i++)
        batch[i] = self->serial + (long)i;
    arm(AT_MEMORY, 1 + (long)testing_below(random, 3), LONG_MAX, ENOMEM);
    status = mtask_queue_put_many(&self->queue, batch, n, &moved, MTASK_FOREVER);
    if (disarm(AT_MEMORY) > 0) {
        ck_assert_status(status, MTASK_NOMEM);
        self->refused++;
    } else {
        ck_assert_status(status, MTASK_OK);
        testing_check(moved == n);
    }
    for (size_t i = 0; i < moved; i++)
        self->items[self->count++] = batch[i];
    self->serial += (long)moved;
}

static void model_get(model *self, testing_random *random) {
    size_t n = 1 + (size_t)testing_below(random, testing_below(random, 20) == 0 ? 4000 : 60);
    long item;
    arm(AT_MEMORY, 1 + (long)testing_below(random, 3), 1, ENOMEM); /* when it is to shrink */
    for (; n > 0 && self->count > 0; n--) {
        size_t next = model_next(self);
        ck_assert_status(mtask_queue_get(&self->queue, &item, MTASK_NOWAIT), MTASK_OK);
        testing_check(item == self->items[next]);
        self->count--;
        memmove(self->items + next, self->items + next + 1,
                (self->count - next) * sizeof self->items[0]);
    }
    (void)disarm(AT_MEMORY);
}

START_TEST(whatever_finds_no_memory_the_queue_behaves_like_its_model) {
    testing_random random = testing_random_make(testing_seed(), 0);
    static model self;
    long rounds = testing_scale(60), refused = 0;
    int64_t start = mtask_now();
    for (long round = 0; round < rounds || round < 6; round++) {
        memset(&self, 0, sizeof self);
        open_longs(&self.queue, (mtask_queue_kind)(round % KINDS), MTASK_UNBOUNDED);
        for (long i = 0; i < 300; i++) {
            bool put = testing_below(&random, 100) < (i / 50 % 2 == 0 ? 75 : 25);
            (put ? model_put : model_get)(&self, &random);
            testing_check(mtask_queue_size(&self.queue) == self.count);
            testing_check(mtask_queue_unfinished(&self.queue) == (size_t)self.serial);
        }
        refused += self.refused;
        end(&self.queue);
        if (round >= 6 && mtask_now() - start > MTASK_SEC(4))
            break;
    }
    ck_assert_int_gt(refused, 0);
}
END_TEST

/* ---- bounded queues do without memory ---- */

static void use_without_memory(mtask_queue *queue) {
    long items[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    mtask_queue_case one;
    size_t moved = 0;
    int fd = -1;
    memset(&one, 0, sizeof one);
    one.queue = queue;
    one.op = MTASK_PUT;
    one.item = items;
    arm(AT_MEMORY, 1, LONG_MAX, ENOMEM);
    ck_assert_status(mtask_queue_put(queue, items, MTASK_FOREVER), MTASK_OK);
    ck_assert_status(mtask_queue_put_many(queue, items, 8, &moved, MTASK_MS(1)), MTASK_FULL);
    ck_assert_uint_eq(moved, 4);
    ck_assert_status(mtask_queue_select(&one, 1, NULL, MTASK_MS(1)), MTASK_TIMEOUT);
    ck_assert_status(mtask_queue_pollfd(queue, &fd), MTASK_OK);
    ck_assert_status(mtask_queue_get_many(queue, items, 8, &moved, MTASK_FOREVER), MTASK_OK);
    ck_assert_uint_eq(moved, 5);
    ck_assert_status(mtask_queue_get(queue, items, MTASK_MS(1)), MTASK_EMPTY);
    ck_assert_status(mtask_queue_join(queue, MTASK_MS(1)), MTASK_TIMEOUT);
    ck_assert_status(mtask_queue_select(&one, 1, NULL, MTASK_FOREVER), MTASK_OK);
    ck_assert_status(mtask_queue_close(queue), MTASK_OK);
    ck_assert_status(mtask_queue_discard(queue, NULL, NULL, NULL), MTASK_OK);
    (void)disarm(AT_MEMORY);
    ck_assert_int_eq(look(&injections[AT_MEMORY].calls), 0); /* nobody even asked */
}

START_TEST(bounded_queues_ask_for_memory_once_and_those_in_storage_never) {
    static MTASK_QUEUE_STORAGE(storage, 5, sizeof(long));
    for (int kind = 0; kind < KINDS; kind++) {
        mtask_queue_desc desc = describe((mtask_queue_kind)kind, 5);
        mtask_queue queue;
        ck_assert_status(mtask_queue_init(&queue, &desc), MTASK_OK);
        ck_assert_int_eq(look(&live_blocks), 1);
        use_without_memory(&queue);
        end(&queue);
        desc.storage = storage;
        desc.storage_size = sizeof storage;
        arm(AT_MEMORY, 1, LONG_MAX, ENOMEM);
        ck_assert_status(mtask_queue_init(&queue, &desc), MTASK_OK);
        ck_assert_int_eq(disarm(AT_MEMORY), 0);
        use_without_memory(&queue);
        end(&queue);
    }
}
END_TEST

/* ---- waits that the system refuses ---- */

/* All that would have to wait, on an empty queue and on one that is full, must tell why it could
   not; then nothing has happened, and nobody is left waiting. */
static void refuse_waits(mtask_queue_kind kind, point at, int error, int64_t timeout) {
    mtask_queue empty, full;
    mtask_queue_case cases[2];
    long item = 5;
    size_t moved = 9, fired = 9;
    open_longs(&empty, kind, 1);
    open_longs(&full, kind, 1);
    put_long(&full, 3);
    memset(cases, 0, sizeof cases);
    cases[0].queue = &empty;
    cases[1].queue = &full;
    cases[1].op = MTASK_PUT;
    cases[0].item = cases[1].item = &item;
    arm(at, 1, LONG_MAX, error);
    errno = 0;
    ck_assert_status(mtask_queue_get(&empty, &item, timeout), MTASK_SYSTEM);
    ck_assert_int_eq(errno, error);
    ck_assert_status(mtask_queue_get_many(&empty, &item, 1, &moved, timeout), MTASK_SYSTEM);
    ck_assert_uint_eq(moved, 0);
    errno = 0;
    ck_assert_status(mtask_queue_put(&full, &item, timeout), MTASK_SYSTEM);
    ck_assert_int_eq(errno, error);
    moved = 9;
    ck_assert_status(mtask_queue_put_many(&full, &item, 1, &moved, timeout), MTASK_SYSTEM);
    ck_assert_uint_eq(moved, 0);
    errno = 0;
    ck_assert_status(mtask_queue_join(&full, timeout), MTASK_SYSTEM);
    ck_assert_int_eq(errno, error);
    errno = 0;
    ck_assert_status(mtask_queue_select(cases, 2, &fired, timeout), MTASK_SYSTEM);
    ck_assert_int_eq(errno, error);
    ck_assert_uint_eq(fired, 2);
    ck_assert_int_ge(disarm(at), 6);
    ck_assert_int_eq(item, 5);
    ck_assert_uint_eq(mtask_queue_size(&empty), 0);
    ck_assert_int_eq(get_long(&full), 3);
    ck_assert_status(mtask_queue_deinit(&empty), MTASK_OK);
    ck_assert_status(mtask_queue_deinit(&full), MTASK_OK);
}

START_TEST(a_refused_sleep_is_told_and_changes_nothing) {
    for (int kind = 0; kind < KINDS; kind++) {
        refuse_waits((mtask_queue_kind)kind, AT_WAIT, ENOSYS, MTASK_FOREVER);
        refuse_waits((mtask_queue_kind)kind, AT_WAIT, ENOSYS, MTASK_SEC(60));
    }
}
END_TEST

START_TEST(a_timed_wait_without_a_clock_is_told_and_changes_nothing) {
    for (int kind = 0; kind < KINDS; kind++)
        refuse_waits((mtask_queue_kind)kind, AT_CLOCK, EINVAL, MTASK_SEC(60));
}
END_TEST

START_TEST(what_need_not_wait_needs_no_clock) {
    mtask_queue queue;
    long item = 0;
    mtask_queue_case one;
    memset(&one, 0, sizeof one);
    open_longs(&queue, MTASK_FIFO, 2);
    one.queue = &queue;
    one.item = &item;
    arm(AT_CLOCK, 1, LONG_MAX, EINVAL);
    ck_assert_status(mtask_queue_get(&queue, &item, MTASK_NOWAIT), MTASK_EMPTY);
    ck_assert_status(mtask_queue_select(&one, 1, NULL, MTASK_NOWAIT), MTASK_TIMEOUT);
    ck_assert_status(mtask_queue_join(&queue, MTASK_FOREVER), MTASK_OK);
    put_long(&queue, 1);
    put_long(&queue, 2);
    ck_assert_status(mtask_queue_put(&queue, &item, MTASK_NOWAIT), MTASK_FULL);
    ck_assert_status(mtask_queue_join(&queue, MTASK_NOWAIT), MTASK_TIMEOUT);
    ck_assert_status(mtask_queue_get(&queue, &item, MTASK_FOREVER), MTASK_OK);
    ck_assert_status(mtask_queue_select(&one, 1, NULL, MTASK_FOREVER), MTASK_OK);
    ck_assert_int_eq(item, 2);
    (void)disarm(AT_CLOCK);
    end(&queue);
}
END_TEST

/* A sleep that is refused must not lose the wake-up of another: after one getter's failure the
   other one still hears of the next item. */
START_TEST(a_refused_sleep_leaves_the_other_sleepers_in_order) {
    for (int kind = 0; kind < KINDS; kind++) {
        mtask_queue queue;
        testing_crowd crowd;
        long item = 0;
        open_longs(&queue, (mtask_queue_kind)kind, 2);
        testing_crowd_start(&crowd, 1, get_forever, &queue);
        testing_await_asleep(&crowd.members[0]);
        arm(AT_WAIT, 1, LONG_MAX, ENOSYS);
        ck_assert_status(mtask_queue_get(&queue, &item, MTASK_FOREVER), MTASK_SYSTEM);
        (void)disarm(AT_WAIT);
        put_long(&queue, 8);
        testing_crowd_join(&crowd);
        ck_assert_int_eq(crowd.members[0].number, 8);
        ck_assert_status(mtask_queue_deinit(&queue), MTASK_OK);
    }
}
END_TEST

/* ---- descriptors that are refused ---- */

/* Opens files until there is no descriptor left; returns how many are in `fds`. */
static int use_up_descriptors(int *fds, int most) {
    struct rlimit limit;
    int count = 0;
    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = 64;
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
    while (count < most && (fds[count] = open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0)
        count++;
    ck_assert_int_lt(count, most);
    ck_assert_int_eq(errno, EMFILE);
    return count;
}

START_TEST(without_descriptors_pollfd_tells_so_and_works_later) {
    mtask_queue queue;
    int fds[80], fd = -7;
    int count;
    open_longs(&queue, MTASK_FIFO, 2);
    count = use_up_descriptors(fds, 80);
    for (int round = 0; round < 3; round++) {
        errno = 0;
        ck_assert_status(mtask_queue_pollfd(&queue, &fd), MTASK_SYSTEM);
        ck_assert_int_eq(errno, EMFILE);
        put_long(&queue, 1);
        ck_assert_int_eq(get_long(&queue), 1);
    }
    ck_assert_int_ge(count, 3);
    close(fds[--count]); /* where it takes two descriptors, it must not keep the one that it got */
    if (mtask_queue_pollfd(&queue, &fd) != MTASK_OK) {
        int one = open("/dev/null", O_RDONLY | O_CLOEXEC);
        ck_assert_int_ge(one, 0);
        close(one);
        close(fds[--count]);
        ck_assert_status(mtask_queue_pollfd(&queue, &fd), MTASK_OK);
    }
    ck_assert_int_ge(fd, 0);
    ck_assert_status(mtask_queue_deinit(&queue), MTASK_OK);
    ck_assert_int_eq(fcntl(fd, F_GETFD), -1);
    while (count > 0)
        close(fds[--count]);
}
END_TEST

/* ---- misuse ---- */

START_TEST(a_queue_that_is_not_initialised_is_refused_everywhere) {
    mtask_queue queue;
    mtask_queue_case one;
    long item = 5;
    size_t moved = 9;
    int fd = -7;
    memset(&queue, 0, sizeof queue);
    memset(&one, 0, sizeof one);
    one.queue = &queue;
    one.item = &item;
    ck_assert_status(mtask_queue_put(&queue, &item, MTASK_NOWAIT), MTASK_INVALID);
    ck_assert_status(mtask_queue_get(&queue, &item, MTASK_NOWAIT), MTASK_INVALID);
    ck_assert_status(mtask_queue_put_many(&queue, &item, 1, &moved, 0), MTASK_INVALID);
    ck_assert_uint_eq(moved, 0);
    ck_assert_status(mtask_queue_get_many(&queue, &item, 1, NULL, 0), MTASK_INVALID);
    ck_assert_status(mtask_queue_peek(&queue, &item), MTASK_INVALID);
    ck_assert_status(mtask_queue_task_done(&queue), MTASK_INVALID);
    ck_assert_status(mtask_queue_join(&queue, MTASK_FOREVER), MTASK_INVALID);
    ck_assert_status(mtask_queue_close(&queue), MTASK_INVALID);
    ck_assert_status(mtask_queue_discard(&queue, NULL, NULL, &moved), MTASK_INVALID);
    ck_assert_status(mtask_queue_pollfd(&queue, &fd), MTASK_INVALID);
    ck_assert_status(mtask_queue_select(&one, 1, NULL, MTASK_NOWAIT), MTASK_INVALID);
    ck_assert_uint_eq(mtask_queue_size(&queue), 0);
    ck_assert_uint_eq(mtask_queue_unfinished(&queue), 0);
    ck_assert(mtask_queue_is_empty(&queue));
    ck_assert(!mtask_queue_is_full(&queue) && !mtask_queue_is_closed(&queue));
}
END_TEST

TESTING_MAIN("queue_failure", init_without_memory_leaves_nothing,
             what_fits_the_address_space_but_not_memory_is_told,
             a_put_that_finds_no_memory_changes_nothing,
             a_batch_that_finds_no_memory_tells_how_far_it_came,
             a_select_that_finds_no_memory_tells_which_case_it_was, only_puts_need_memory,
             memory_that_cannot_be_given_back_does_no_harm, a_drained_queue_gives_its_memory_back,
             getters_are_woken_for_what_was_put_before_memory_ran_out,
             whatever_finds_no_memory_the_queue_behaves_like_its_model,
             bounded_queues_ask_for_memory_once_and_those_in_storage_never,
             a_refused_sleep_is_told_and_changes_nothing,
             a_timed_wait_without_a_clock_is_told_and_changes_nothing,
             what_need_not_wait_needs_no_clock, a_refused_sleep_leaves_the_other_sleepers_in_order,
             without_descriptors_pollfd_tells_so_and_works_later,
             a_queue_that_is_not_initialised_is_refused_everywhere)
