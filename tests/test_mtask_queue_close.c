/* test_mtask_queue_close.c - how queues end: close, discard, task_done and join */
#include "testing_queue.h"

/* Puts 1, 2, ... `count`. */
static void put_count(mtask_queue *queue, long count) {
    for (long i = 1; i <= count; i++)
        put_long(queue, i);
}

static void end(mtask_queue *queue) {
    ck_assert_status(mtask_queue_deinit(queue), MTASK_OK);
}

/* Python's shutdown(immediate=True). */
static void shut_down(mtask_queue *queue, bool immediate) {
    ck_assert_status(mtask_queue_close(queue), MTASK_OK);
    if (immediate)
        ck_assert_status(mtask_queue_discard(queue, NULL, NULL, NULL), MTASK_OK);
}

/* A test for queues of each kind, bounded to `capacity` and not. */
typedef void (*for_queue)(mtask_queue *queue);

static void each_queue(size_t capacity, for_queue test) {
    for (int kind = 0; kind < KINDS; kind++)
        for (int bounded = 0; bounded < 2; bounded++) {
            mtask_queue queue;
            open_longs(&queue, (mtask_queue_kind)kind, bounded ? capacity : MTASK_UNBOUNDED);
            test(&queue);
            end(&queue);
        }
}

/* ---- close ---- */

static void close_empty(mtask_queue *queue) {
    long item = 5;
    size_t moved = 9;
    ck_assert(!mtask_queue_is_closed(queue));
    ck_assert_status(mtask_queue_close(queue), MTASK_OK);
    ck_assert(mtask_queue_is_closed(queue));
    ck_assert_status(mtask_queue_put(queue, &item, MTASK_NOWAIT), MTASK_CLOSED);
    ck_assert_status(mtask_queue_put(queue, &item, MTASK_SEC(60)), MTASK_CLOSED);
    ck_assert_status(mtask_queue_put(queue, &item, MTASK_FOREVER), MTASK_CLOSED);
    ck_assert_status(mtask_queue_put_many(queue, &item, 1, &moved, MTASK_FOREVER), MTASK_CLOSED);
    ck_assert_uint_eq(moved, 0);
    ck_assert_status(mtask_queue_get(queue, &item, MTASK_NOWAIT), MTASK_CLOSED);
    ck_assert_status(mtask_queue_get(queue, &item, MTASK_SEC(60)), MTASK_CLOSED);
    ck_assert_status(mtask_queue_get(queue, &item, MTASK_FOREVER), MTASK_CLOSED);
    ck_assert_status(mtask_queue_get_many(queue, &item, 1, NULL, MTASK_FOREVER), MTASK_CLOSED);
    ck_assert_status(mtask_queue_peek(queue, &item), MTASK_CLOSED);
    ck_assert_int_eq(item, 5);
    ck_assert_status(mtask_queue_task_done(queue), MTASK_OVERFLOW);
    ck_assert_status(mtask_queue_join(queue, MTASK_FOREVER), MTASK_OK);
    ck_assert(mtask_queue_is_empty(queue));
    ck_assert_uint_eq(mtask_queue_size(queue), 0);
}

START_TEST(an_empty_closed_queue_answers_closed) {
    each_queue(3, close_empty);
}
END_TEST

static void close_with_items(mtask_queue *queue) {
    long item = 5, sum = 0;
    put_count(queue, 3);
    ck_assert_status(mtask_queue_close(queue), MTASK_OK);
    ck_assert_uint_eq(mtask_queue_size(queue), 3);
    ck_assert_status(mtask_queue_put(queue, &item, MTASK_NOWAIT), MTASK_CLOSED);
    ck_assert_status(mtask_queue_put(queue, &item, MTASK_FOREVER), MTASK_CLOSED);
    sum += get_long(queue);
    ck_assert_status(mtask_queue_put(queue, &item, MTASK_NOWAIT), MTASK_CLOSED);
    for (int i = 0; i < 2; i++) {
        ck_assert_status(mtask_queue_get(queue, &item, MTASK_FOREVER), MTASK_OK);
        sum += item;
    }
    ck_assert_int_eq(sum, 6);
    ck_assert_status(mtask_queue_get(queue, &item, MTASK_FOREVER), MTASK_CLOSED);
    ck_assert_uint_eq(mtask_queue_unfinished(queue), 3);
    ck_assert_status(mtask_queue_join(queue, MTASK_MS(1)), MTASK_TIMEOUT);
    for (int i = 0; i < 3; i++)
        ck_assert_status(mtask_queue_task_done(queue), MTASK_OK);
    ck_assert_status(mtask_queue_task_done(queue), MTASK_OVERFLOW);
    ck_assert_status(mtask_queue_join(queue, MTASK_FOREVER), MTASK_OK);
}

START_TEST(a_closed_queue_gives_what_is_left_and_takes_nothing) {
    each_queue(3, close_with_items);
}
END_TEST

static void close_immediately(mtask_queue *queue) {
    long item = 5;
    put_count(queue, 3);
    shut_down(queue, true);
    ck_assert(mtask_queue_is_empty(queue));
    ck_assert_status(mtask_queue_get(queue, &item, MTASK_FOREVER), MTASK_CLOSED);
    ck_assert_status(mtask_queue_put(queue, &item, MTASK_FOREVER), MTASK_CLOSED);
    ck_assert_uint_eq(mtask_queue_unfinished(queue), 0);
    ck_assert_status(mtask_queue_join(queue, MTASK_FOREVER), MTASK_OK);
    ck_assert_status(mtask_queue_task_done(queue), MTASK_OVERFLOW);
}

START_TEST(immediately_closed_it_gives_nothing) {
    each_queue(3, close_immediately);
}
END_TEST

/* From closed to closed at once, and back to just closed: all may be done, in any order. */
static void close_again_and_again(mtask_queue *queue) {
    long item;
    put_count(queue, 3);
    shut_down(queue, false);
    shut_down(queue, false);
    ck_assert_int_gt(get_long(queue), 0);
    shut_down(queue, true);
    ck_assert_status(mtask_queue_get(queue, &item, MTASK_NOWAIT), MTASK_CLOSED);
    shut_down(queue, true);
    shut_down(queue, false);
    ck_assert_status(mtask_queue_get(queue, &item, MTASK_NOWAIT), MTASK_CLOSED);
    ck_assert_uint_eq(mtask_queue_unfinished(queue), 1);
    ck_assert_status(mtask_queue_task_done(queue), MTASK_OK);
    ck_assert_status(mtask_queue_join(queue, MTASK_NOWAIT), MTASK_OK);
}

START_TEST(close_may_be_called_again) {
    each_queue(3, close_again_and_again);
}
END_TEST

/* Batches of what is left. */
static void close_and_get_many(mtask_queue *queue) {
    long items[5];
    size_t moved = 0;
    put_count(queue, 3);
    shut_down(queue, false);
    ck_assert_status(mtask_queue_get_many(queue, items, 2, &moved, MTASK_FOREVER), MTASK_OK);
    ck_assert_uint_eq(moved, 2);
    ck_assert_status(mtask_queue_get_many(queue, items, 5, &moved, MTASK_FOREVER), MTASK_OK);
    ck_assert_uint_eq(moved, 1);
    ck_assert_status(mtask_queue_get_many(queue, items, 5, &moved, MTASK_FOREVER), MTASK_CLOSED);
    ck_assert_uint_eq(moved, 0);
}

START_TEST(batches_take_what_is_left_of_a_closed_queue) {
    each_queue(3, close_and_get_many);
}
END_TEST

/* ---- close wakes those who wait ---- */

static void get_one(testing_member *self) {
    self->status = mtask_queue_get((mtask_queue *)self->arg, &self->number, MTASK_FOREVER);
}

static void get_many(testing_member *self) {
    size_t moved = 9;
    self->status =
        mtask_queue_get_many((mtask_queue *)self->arg, &self->number, 1, &moved, MTASK_SEC(60));
    testing_check(moved == (self->status == MTASK_OK));
}

static void put_one(testing_member *self) {
    long item = 100 + self->index;
    self->status = mtask_queue_put((mtask_queue *)self->arg, &item, MTASK_FOREVER);
}

/* *number: how many of the ten it could put. */
static void put_ten(testing_member *self) {
    long items[10] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10};
    size_t moved = 99;
    self->status = mtask_queue_put_many((mtask_queue *)self->arg, items, 10, &moved, MTASK_FOREVER);
    self->number = (long)moved;
}

static void close_under_getters(mtask_queue *queue, bool immediate) {
    testing_crowd crowd;
    testing_crowd_start(&crowd, 4, get_one, queue);
    (void)testing_crowd_add(&crowd, get_many, queue);
    testing_crowd_await_asleep(&crowd, 5);
    shut_down(queue, immediate);
    testing_crowd_join(&crowd);
    ck_assert_int_eq(testing_crowd_count(&crowd, MTASK_CLOSED), 5);
}

static void close_under_getters_later(mtask_queue *queue) {
    close_under_getters(queue, false);
}

static void close_under_getters_at_once(mtask_queue *queue) {
    close_under_getters(queue, true);
}

START_TEST(close_wakes_all_getters) {
    each_queue(3, close_under_getters_later);
    each_queue(3, close_under_getters_at_once);
}
END_TEST

static void close_under_putters(mtask_queue_kind kind, bool immediate) {
    mtask_queue queue;
    testing_crowd crowd;
    open_longs(&queue, kind, 2);
    put_count(&queue, 2);
    testing_crowd_start(&crowd, 4, put_one, &queue);
    (void)testing_crowd_add(&crowd, put_ten, &queue);
    testing_crowd_await_asleep(&crowd, 5);
    shut_down(&queue, immediate);
    testing_crowd_join(&crowd);
    ck_assert_int_eq(testing_crowd_count(&crowd, MTASK_CLOSED), 5);
    ck_assert_int_eq(crowd.members[4].number, 0);
    ck_assert_uint_eq(mtask_queue_size(&queue), immediate ? 0 : 2);
    ck_assert_uint_eq(mtask_queue_unfinished(&queue), immediate ? 0 : 2);
    end(&queue);
}

START_TEST(close_wakes_all_putters) {
    for (int kind = 0; kind < KINDS; kind++) {
        close_under_putters((mtask_queue_kind)kind, false);
        close_under_putters((mtask_queue_kind)kind, true);
    }
}
END_TEST

/* One of the sleepers is woken just before: what tells the others must not be lost with him. */
static void close_behind_a_put(mtask_queue *queue) {
    testing_crowd crowd;
    testing_crowd_start(&crowd, 3, get_one, queue);
    testing_crowd_await_asleep(&crowd, 3);
    put_long(queue, 1);
    ck_assert_status(mtask_queue_close(queue), MTASK_OK);
    testing_crowd_join(&crowd);
    ck_assert_int_eq(testing_crowd_count(&crowd, MTASK_OK), 1);
    ck_assert_int_eq(testing_crowd_count(&crowd, MTASK_CLOSED), 2);
}

static void close_behind_a_get(mtask_queue_kind kind) {
    mtask_queue queue;
    testing_crowd crowd;
    int put;
    open_longs(&queue, kind, 1);
    put_long(&queue, 1);
    testing_crowd_start(&crowd, 3, put_one, &queue);
    testing_crowd_await_asleep(&crowd, 3);
    (void)get_long(&queue);
    ck_assert_status(mtask_queue_close(&queue), MTASK_OK);
    testing_crowd_join(&crowd);
    put = testing_crowd_count(&crowd, MTASK_OK); /* the one that was woken, if it was in time */
    ck_assert_int_le(put, 1);
    ck_assert_int_eq(testing_crowd_count(&crowd, MTASK_CLOSED), 3 - put);
    end(&queue);
}

START_TEST(close_wakes_all_when_one_has_just_been_woken) {
    for (long round = 0; round < testing_scale(20); round++) {
        each_queue(3, close_behind_a_put);
        for (int kind = 0; kind < KINDS; kind++)
            close_behind_a_get((mtask_queue_kind)kind);
    }
}
END_TEST

START_TEST(close_ends_a_batch_in_the_middle) {
    for (int kind = 0; kind < KINDS; kind++) {
        mtask_queue queue;
        testing_crowd crowd;
        open_longs(&queue, (mtask_queue_kind)kind, 4);
        testing_crowd_start(&crowd, 1, put_ten, &queue);
        testing_await_asleep(&crowd.members[0]);
        ck_assert_status(mtask_queue_close(&queue), MTASK_OK);
        testing_crowd_join(&crowd);
        ck_assert_status(crowd.members[0].status, MTASK_CLOSED);
        ck_assert_int_eq(crowd.members[0].number, 4);
        ck_assert_uint_eq(mtask_queue_size(&queue), 4);
        ck_assert_uint_eq(mtask_queue_unfinished(&queue), 4);
        end(&queue);
    }
}
END_TEST

static void join_forever(testing_member *self) {
    self->status = mtask_queue_join((mtask_queue *)self->arg, MTASK_FOREVER);
}

static void join_for_a_minute(testing_member *self) {
    self->status = mtask_queue_join((mtask_queue *)self->arg, MTASK_SEC(60));
}

/* Items that nobody will get any more hold up a join until they are thrown away. */
static void close_under_joiners(mtask_queue *queue) {
    testing_crowd crowd;
    put_count(queue, 3);
    testing_crowd_start(&crowd, 2, join_forever, queue);
    (void)testing_crowd_add(&crowd, join_for_a_minute, queue);
    testing_crowd_await_asleep(&crowd, 3);
    ck_assert_status(mtask_queue_close(queue), MTASK_OK);
    testing_crowd_await_settled(&crowd);
    ck_assert_int_eq(testing_crowd_finished(&crowd), 0);
    ck_assert_status(mtask_queue_discard(queue, NULL, NULL, NULL), MTASK_OK);
    testing_crowd_join(&crowd);
    ck_assert_int_eq(testing_crowd_count(&crowd, MTASK_OK), 3);
}

START_TEST(discard_lets_joiners_go_and_close_does_not) {
    each_queue(3, close_under_joiners);
}
END_TEST

/* An item that somebody took out is not thrown away with the others: it is still to be done. */
static void discard_what_others_work_on(mtask_queue *queue) {
    testing_crowd crowd;
    put_count(queue, 3);
    ck_assert_int_gt(get_long(queue), 0);
    testing_crowd_start(&crowd, 2, join_forever, queue);
    testing_crowd_await_asleep(&crowd, 2);
    shut_down(queue, true);
    ck_assert_uint_eq(mtask_queue_unfinished(queue), 1);
    testing_crowd_await_settled(&crowd);
    ck_assert_int_eq(testing_crowd_finished(&crowd), 0);
    ck_assert_status(mtask_queue_task_done(queue), MTASK_OK);
    testing_crowd_join(&crowd);
    ck_assert_int_eq(testing_crowd_count(&crowd, MTASK_OK), 2);
    ck_assert_status(mtask_queue_task_done(queue), MTASK_OVERFLOW);
}

START_TEST(join_waits_for_what_was_taken_out_before_a_discard) {
    each_queue(3, discard_what_others_work_on);
}
END_TEST

/* ---- discard ---- */

typedef struct thrown_out {
    long items[8];
    size_t count;
} thrown_out;

static void note_discarded(void *item, void *ctx) {
    thrown_out *all = (thrown_out *)ctx;
    testing_check(all->count < 8);
    memcpy(&all->items[all->count++], item, sizeof(long));
}

START_TEST(discard_hands_over_each_item_in_order) {
    const long expected[KINDS][3] = {{2, 3, 1}, {1, 3, 2}, {1, 2, 3}};
    for (int kind = 0; kind < KINDS; kind++)
        for (int bounded = 0; bounded < 2; bounded++) {
            mtask_queue queue;
            thrown_out all = {{0}, 0};
            size_t count = 9;
            open_longs(&queue, (mtask_queue_kind)kind, bounded ? 3 : MTASK_UNBOUNDED);
            put_long(&queue, 9);
            ck_assert_int_eq(get_long(&queue), 9); /* so that the ring has its end in the middle */
            put_long(&queue, 2);
            put_long(&queue, 3);
            put_long(&queue, 1);
            ck_assert_status(mtask_queue_discard(&queue, note_discarded, &all, &count), MTASK_OK);
            ck_assert_uint_eq(count, 3);
            ck_assert_uint_eq(all.count, 3);
            ck_assert_int_eq(memcmp(all.items, expected[kind], sizeof expected[kind]), 0);
            ck_assert_uint_eq(mtask_queue_unfinished(&queue), 1);
            end(&queue);
        }
}
END_TEST

static void discard_and_go_on(mtask_queue *queue) {
    size_t count = 9;
    ck_assert_status(mtask_queue_discard(queue, NULL, NULL, &count), MTASK_OK);
    ck_assert_uint_eq(count, 0);
    for (long round = 0; round < 5; round++) {
        put_count(queue, 3);
        ck_assert_status(mtask_queue_discard(queue, NULL, NULL, &count), MTASK_OK);
        ck_assert_uint_eq(count, 3);
        ck_assert(mtask_queue_is_empty(queue) && !mtask_queue_is_full(queue));
        ck_assert_uint_eq(mtask_queue_unfinished(queue), 0);
        put_count(queue, 1 + round % 3);
        ck_assert_int_eq(get_long(queue), queue->kind == MTASK_LIFO ? 1 + round % 3 : 1);
        ck_assert_status(mtask_queue_discard(queue, NULL, NULL, NULL), MTASK_OK);
        ck_assert_status(mtask_queue_task_done(queue), MTASK_OK);
        ck_assert_status(mtask_queue_join(queue, MTASK_NOWAIT), MTASK_OK);
    }
}

START_TEST(a_queue_goes_on_after_a_discard) {
    each_queue(3, discard_and_go_on);
}
END_TEST

/* Whoever says that items are done before they are taken out, as Python lets him, leaves nothing
   that a discard could credit once more. */
static void discard_what_is_done(mtask_queue *queue) {
    put_count(queue, 3);
    for (int i = 0; i < 2; i++)
        ck_assert_status(mtask_queue_task_done(queue), MTASK_OK);
    ck_assert_status(mtask_queue_discard(queue, NULL, NULL, NULL), MTASK_OK);
    ck_assert_uint_eq(mtask_queue_unfinished(queue), 0);
    ck_assert_status(mtask_queue_task_done(queue), MTASK_OVERFLOW);
    put_count(queue, 1);
    ck_assert_uint_eq(mtask_queue_unfinished(queue), 1);
}

START_TEST(discard_credits_no_more_than_is_unfinished) {
    each_queue(3, discard_what_is_done);
}
END_TEST

static void free_what_it_points_to(void *item, void *ctx) {
    void *memory;
    memcpy(&memory, item, sizeof memory);
    free(memory);
    ++*(int *)ctx;
}

START_TEST(discard_may_free_what_items_point_to) {
    mtask_queue queue;
    mtask_queue_desc desc = {0};
    int freed = 0;
    desc.capacity = 10;
    desc.item_size = sizeof(void *);
    ck_assert_status(mtask_queue_init(&queue, &desc), MTASK_OK);
    for (int i = 0; i < 10; i++) {
        void *memory = malloc(100);
        ck_assert_status(mtask_queue_put(&queue, &memory, MTASK_NOWAIT), MTASK_OK);
    }
    ck_assert_status(mtask_queue_discard(&queue, free_what_it_points_to, &freed, NULL), MTASK_OK);
    ck_assert_int_eq(freed, 10);
    end(&queue);
}
END_TEST

/* ---- task_done and join ---- */

static void finish_tasks(mtask_queue *queue) {
    ck_assert_uint_eq(mtask_queue_unfinished(queue), 0);
    ck_assert_status(mtask_queue_task_done(queue), MTASK_OVERFLOW);
    ck_assert_status(mtask_queue_join(queue, MTASK_NOWAIT), MTASK_OK);
    for (size_t i = 1; i <= 3; i++) {
        put_long(queue, 1);
        ck_assert_uint_eq(mtask_queue_unfinished(queue), i);
    }
    ck_assert_int_eq(get_long(queue), 1);
    ck_assert_uint_eq(mtask_queue_unfinished(queue), 3); /* taking is not doing */
    for (size_t i = 3; i > 0; i--) {
        ck_assert_status(mtask_queue_join(queue, MTASK_NOWAIT), MTASK_TIMEOUT);
        ck_assert_status(mtask_queue_task_done(queue), MTASK_OK);
        ck_assert_uint_eq(mtask_queue_unfinished(queue), i - 1);
    }
    ck_assert_status(mtask_queue_task_done(queue), MTASK_OVERFLOW);
    ck_assert_uint_eq(mtask_queue_unfinished(queue), 0);
    ck_assert_status(mtask_queue_join(queue, MTASK_FOREVER), MTASK_OK);
    ck_assert_status(mtask_queue_join(queue, MTASK_FOREVER), MTASK_OK); /* and once more */
    ck_assert_uint_eq(mtask_queue_size(queue), 2);
}

START_TEST(task_done_counts_down_and_not_below_zero) {
    each_queue(4, finish_tasks);
}
END_TEST

static void join_in_vain(mtask_queue *queue) {
    int64_t start = mtask_now();
    put_long(queue, 1);
    ck_assert_status(mtask_queue_join(queue, MTASK_MS(15)), MTASK_TIMEOUT);
    ck_assert_int_ge(mtask_now() - start, MTASK_MS(15));
    ck_assert_status(mtask_queue_task_done(queue), MTASK_OK);
    ck_assert_status(mtask_queue_join(queue, MTASK_MS(15)), MTASK_OK);
}

START_TEST(a_timed_join_takes_its_time) {
    each_queue(4, join_in_vain);
}
END_TEST

static void join_together(mtask_queue *queue) {
    testing_crowd crowd;
    put_count(queue, 2);
    testing_crowd_start(&crowd, 3, join_forever, queue);
    (void)testing_crowd_add(&crowd, join_for_a_minute, queue);
    testing_crowd_await_asleep(&crowd, 4);
    ck_assert_status(mtask_queue_task_done(queue), MTASK_OK);
    testing_crowd_await_settled(&crowd);
    ck_assert_int_eq(testing_crowd_finished(&crowd), 0);
    ck_assert_status(mtask_queue_task_done(queue), MTASK_OK);
    testing_crowd_join(&crowd);
    ck_assert_int_eq(testing_crowd_count(&crowd, MTASK_OK), 4);
}

START_TEST(the_last_task_done_wakes_all_joiners) {
    each_queue(3, join_together);
}
END_TEST

START_TEST(join_goes_on_after_signals_and_uses_no_cpu) {
    mtask_queue queue;
    testing_crowd crowd;
    testing_catch_signals();
    open_longs(&queue, MTASK_FIFO, 2);
    put_count(&queue, 1);
    testing_crowd_start(&crowd, 1, join_forever, &queue);
    testing_interrupt(&crowd.members[0]);
    testing_check_idle(&crowd.members[0]);
    ck_assert_status(mtask_queue_deinit(&queue), MTASK_INVALID); /* it is in use */
    ck_assert_status(mtask_queue_task_done(&queue), MTASK_OK);
    testing_crowd_join(&crowd);
    ck_assert_status(crowd.members[0].status, MTASK_OK);
    end(&queue);
}
END_TEST

/* CPython's join test: workers add up what they get until they get a negative number. */
typedef struct work {
    mtask_queue queue;
    long sum;
} work;

static void do_work(testing_member *self) {
    work *on = (work *)self->arg;
    long item;
    for (;;) {
        ck_assert_status(mtask_queue_get(&on->queue, &item, MTASK_FOREVER), MTASK_OK);
        if (item >= 0)
            __atomic_fetch_add(&on->sum, item, __ATOMIC_RELAXED); /* join orders it */
        ck_assert_status(mtask_queue_task_done(&on->queue), MTASK_OK);
        if (item < 0)
            return;
    }
}

static void put_work(work *on, long count, long item) {
    for (long i = 0; i < count; i++) {
        long next = item < 0 ? item : i;
        ck_assert_status(mtask_queue_put(&on->queue, &next, MTASK_FOREVER), MTASK_OK);
    }
    ck_assert_status(mtask_queue_join(&on->queue, MTASK_FOREVER), MTASK_OK);
    ck_assert_uint_eq(mtask_queue_unfinished(&on->queue), 0);
    ck_assert(mtask_queue_is_empty(&on->queue));
}

START_TEST(join_returns_when_the_workers_have_done_all) {
    const size_t limits[] = {1, 3, 200, MTASK_UNBOUNDED};
    for (int kind = 0; kind < KINDS; kind++)
        for (int i = 0; i < 4; i++) {
            work on;
            testing_crowd crowd;
            on.sum = 0;
            open_longs(&on.queue, (mtask_queue_kind)kind, limits[i]);
            testing_crowd_start(&crowd, 3, do_work, &on);
            for (long round = 1; round <= 2; round++) { /* on the same queue twice */
                put_work(&on, 100, 0);
                ck_assert_int_eq(on.sum, round * 99 * 100 / 2);
            }
            put_work(&on, 3, -1);
            testing_crowd_join(&crowd);
            end(&on.queue);
        }
}
END_TEST

/* Many joins and many task_done at once: each join ends when all is done, and not before. */
typedef struct rounds {
    mtask_queue queue;
    long count;
    long done; /* work really done */
} rounds;

static void do_rounds(testing_member *self) {
    rounds *on = (rounds *)self->arg;
    long item;
    while (mtask_queue_get(&on->queue, &item, MTASK_FOREVER) == MTASK_OK) {
        __atomic_fetch_add(&on->done, 1, __ATOMIC_RELAXED);
        ck_assert_status(mtask_queue_task_done(&on->queue), MTASK_OK);
    }
}

START_TEST(join_comes_back_when_it_should_every_time) {
    for (int kind = 0; kind < KINDS; kind++) {
        rounds on;
        testing_crowd crowd;
        testing_random random = testing_random_make(testing_seed(), (unsigned)kind);
        int64_t start = mtask_now();
        long put = 0;
        on.count = testing_scale(6000);
        on.done = 0;
        open_longs(&on.queue, (mtask_queue_kind)kind, kind == MTASK_LIFO ? MTASK_UNBOUNDED : 4);
        testing_crowd_start(&crowd, 3, do_rounds, &on);
        for (long i = 0; i < on.count && testing_has_time(start); i++) {
            for (uint64_t n = testing_below(&random, 6); n > 0; n--, put++)
                ck_assert_status(mtask_queue_put(&on.queue, &put, MTASK_FOREVER), MTASK_OK);
            ck_assert_status(mtask_queue_join(&on.queue, MTASK_FOREVER), MTASK_OK);
            testing_check(__atomic_load_n(&on.done, __ATOMIC_RELAXED) == put);
        }
        ck_assert_status(mtask_queue_close(&on.queue), MTASK_OK);
        testing_crowd_join(&crowd);
        end(&on.queue);
    }
}
END_TEST

/* ---- close while all are busy ---- */

/* What is counted of one crowd: as many as were put successfully come out, no more and no less. */
typedef struct rush {
    mtask_queue queue;
    long put; /* how many, and their sum */
    long put_sum;
    long got;
    long got_sum;
    long thrown;
    long thrown_sum;
    bool immediate;
} rush;

static void add_to(long *counter, long n) {
    __atomic_fetch_add(counter, n, __ATOMIC_RELAXED);
}

static void rush_put(testing_member *self) {
    rush *on = (rush *)self->arg;
    for (long item = 1;; item++) {
        mtask_status status = mtask_queue_put(&on->queue, &item, MTASK_FOREVER);
        if (status == MTASK_CLOSED)
            return;
        ck_assert_status(status, MTASK_OK);
        add_to(&on->put, 1);
        add_to(&on->put_sum, item);
    }
}

static void rush_put_many(testing_member *self) {
    rush *on = (rush *)self->arg;
    long items[7] = {1, 2, 3, 4, 5, 6, 7};
    mtask_status status;
    do {
        size_t moved = 99;
        status = mtask_queue_put_many(&on->queue, items, 7, &moved, MTASK_FOREVER);
        testing_check(status == MTASK_CLOSED || moved == 7);
        add_to(&on->put, (long)moved);
        add_to(&on->put_sum, (long)(moved * (moved + 1) / 2));
    } while (status == MTASK_OK);
    ck_assert_status(status, MTASK_CLOSED);
}

static void rush_get(testing_member *self) {
    rush *on = (rush *)self->arg;
    long item;
    mtask_status status;
    while ((status = mtask_queue_get(&on->queue, &item, MTASK_FOREVER)) == MTASK_OK) {
        add_to(&on->got, 1);
        add_to(&on->got_sum, item);
        ck_assert_status(mtask_queue_task_done(&on->queue), MTASK_OK);
    }
    ck_assert_status(status, MTASK_CLOSED);
}

static void rush_throw(void *item, void *ctx) {
    rush *on = (rush *)ctx;
    long number;
    memcpy(&number, item, sizeof number);
    add_to(&on->thrown, 1);
    add_to(&on->thrown_sum, number);
}

static void rush_join(testing_member *self) {
    rush *on = (rush *)self->arg;
    while (!mtask_queue_is_closed(&on->queue))
        self->status = mtask_queue_join(&on->queue, MTASK_US(100));
    ck_assert_status(mtask_queue_join(&on->queue, MTASK_FOREVER), MTASK_OK);
}

static void run_rush(mtask_queue_kind kind, size_t capacity, bool immediate, uint64_t busy) {
    rush on;
    testing_crowd crowd;
    size_t discarded = 0;
    memset(&on, 0, sizeof on);
    open_longs(&on.queue, kind, capacity);
    testing_crowd_start(&crowd, 2, rush_put, &on);
    (void)testing_crowd_add(&crowd, rush_put_many, &on);
    (void)testing_crowd_add(&crowd, rush_get, &on);
    (void)testing_crowd_add(&crowd, rush_get, &on);
    (void)testing_crowd_add(&crowd, rush_join, &on);
    ck_assert_status(mtask_sleep((int64_t)busy), MTASK_OK);
    ck_assert_status(mtask_queue_close(&on.queue), MTASK_OK);
    if (immediate)
        ck_assert_status(mtask_queue_discard(&on.queue, rush_throw, &on, &discarded), MTASK_OK);
    testing_crowd_join(&crowd);
    testing_check((long)discarded == on.thrown);
    testing_check(on.put == on.got + on.thrown);
    testing_check(on.put_sum == on.got_sum + on.thrown_sum);
    testing_check(mtask_queue_is_empty(&on.queue));
    testing_check(mtask_queue_unfinished(&on.queue) == 0);
    end(&on.queue);
}

/* An unbounded queue of this test would grow without end if the getters fell behind. */
START_TEST(close_at_any_moment_loses_nothing) {
    testing_random random = testing_random_make(testing_seed(), 0);
    const size_t limits[] = {1, 2, 3, 64};
    long runs = testing_scale(240);
    int64_t start = mtask_now();
    for (long i = 0; i < runs && mtask_now() - start < MTASK_SEC(4); i++)
        run_rush((mtask_queue_kind)(i % KINDS), limits[testing_below(&random, 4)],
                 testing_below(&random, 2) == 0,
                 testing_below(&random, testing_below(&random, 8) == 0 ? 5000000 : 300000));
}
END_TEST

/* A put answers MTASK_CLOSED only if its item will never come out. */
static void put_until_closed(testing_member *self) {
    mtask_queue *queue = (mtask_queue *)self->arg;
    while (mtask_queue_put(queue, &self->number, MTASK_FOREVER) == MTASK_OK)
        self->number++;
}

START_TEST(what_a_getter_sees_after_close_is_all_there_is) {
    long runs = testing_scale(300);
    int64_t start = mtask_now();
    for (long i = 0; i < runs && mtask_now() - start < MTASK_SEC(3); i++)
        for (int kind = 0; kind < KINDS; kind++) {
            mtask_queue queue;
            testing_crowd crowd;
            long item, count = 0;
            open_longs(&queue, (mtask_queue_kind)kind, 50);
            testing_crowd_start(&crowd, 1, put_until_closed, &queue);
            while (mtask_queue_size(&queue) < (size_t)(i % 50))
                sched_yield();
            ck_assert_status(mtask_queue_close(&queue), MTASK_OK);
            while (mtask_queue_get(&queue, &item, MTASK_NOWAIT) == MTASK_OK)
                count++;
            ck_assert_status(mtask_queue_get(&queue, &item, MTASK_NOWAIT), MTASK_CLOSED);
            testing_crowd_join(&crowd);
            testing_check(crowd.members[0].number == count);
            end(&queue);
        }
}
END_TEST

/* ---- the end of the object: whoever gets the last item may free the queue at once ---- */

typedef struct last_item {
    mtask_queue queue;
} last_item;

static void open_last_item(void *object) {
    open_longs(&((last_item *)object)->queue, MTASK_FIFO, 2);
}

static bool put_or_free(void *object, int player, testing_random *random) {
    last_item *on = (last_item *)object;
    long item = 7;
    if (player == 0) {
        ck_assert_status(mtask_queue_put(&on->queue, &item, MTASK_FOREVER), MTASK_OK);
        return false;
    }
    testing_dawdle(random, 64);
    ck_assert_status(mtask_queue_get(&on->queue, &item, MTASK_FOREVER), MTASK_OK);
    ck_assert_status(mtask_queue_deinit(&on->queue), MTASK_OK);
    return true;
}

START_TEST(who_gets_the_last_item_may_free_the_queue) {
    testing_play(sizeof(last_item), open_last_item, put_or_free);
}
END_TEST

static bool done_or_free(void *object, int player, testing_random *random) {
    last_item *on = (last_item *)object;
    testing_dawdle(random, 64);
    if (player == 0) {
        ck_assert_status(mtask_queue_task_done(&on->queue), MTASK_OK);
        return false;
    }
    ck_assert_status(mtask_queue_join(&on->queue, MTASK_FOREVER), MTASK_OK);
    ck_assert_status(mtask_queue_deinit(&on->queue), MTASK_OK);
    return true;
}

static void open_last_task(void *object) {
    open_last_item(object);
    put_long(&((last_item *)object)->queue, 1);
}

START_TEST(who_has_joined_may_free_the_queue) {
    testing_play(sizeof(last_item), open_last_task, done_or_free);
}
END_TEST

static bool close_or_free(void *object, int player, testing_random *random) {
    last_item *on = (last_item *)object;
    long item;
    testing_dawdle(random, 64);
    if (player == 0) {
        ck_assert_status(mtask_queue_close(&on->queue), MTASK_OK);
        return false;
    }
    ck_assert_status(mtask_queue_get(&on->queue, &item, MTASK_FOREVER), MTASK_CLOSED);
    ck_assert_status(mtask_queue_deinit(&on->queue), MTASK_OK);
    return true;
}

START_TEST(who_hears_that_it_is_closed_may_free_the_queue) {
    testing_play(sizeof(last_item), open_last_item, close_or_free);
}
END_TEST

/* The one takes an item out of a full queue; the other needs that room. */
static bool take_or_free(void *object, int player, testing_random *random) {
    last_item *on = (last_item *)object;
    long item = 2;
    testing_dawdle(random, 64);
    if (player == 0) {
        ck_assert_status(mtask_queue_get(&on->queue, &item, MTASK_FOREVER), MTASK_OK);
        testing_check(item == 1);
        return false;
    }
    ck_assert_status(mtask_queue_put(&on->queue, &item, MTASK_FOREVER), MTASK_OK);
    ck_assert_status(mtask_queue_deinit(&on->queue), MTASK_OK);
    return true;
}

static void open_full(void *object) {
    open_longs(&((last_item *)object)->queue, MTASK_FIFO, 1);
    put_long(&((last_item *)object)->queue, 1);
}

START_TEST(who_finds_the_room_that_was_made_may_free_the_queue) {
    testing_play(sizeof(last_item), open_full, take_or_free);
}
END_TEST

TESTING_MAIN("queue_close", an_empty_closed_queue_answers_closed,
             a_closed_queue_gives_what_is_left_and_takes_nothing,
             immediately_closed_it_gives_nothing, close_may_be_called_again,
             batches_take_what_is_left_of_a_closed_queue, close_wakes_all_getters,
             close_wakes_all_putters, close_wakes_all_when_one_has_just_been_woken,
             close_ends_a_batch_in_the_middle, discard_lets_joiners_go_and_close_does_not,
             join_waits_for_what_was_taken_out_before_a_discard,
             discard_hands_over_each_item_in_order, a_queue_goes_on_after_a_discard,
             discard_credits_no_more_than_is_unfinished, discard_may_free_what_items_point_to,
             task_done_counts_down_and_not_below_zero, a_timed_join_takes_its_time,
             the_last_task_done_wakes_all_joiners, join_goes_on_after_signals_and_uses_no_cpu,
             join_returns_when_the_workers_have_done_all, join_comes_back_when_it_should_every_time,
             close_at_any_moment_loses_nothing, what_a_getter_sees_after_close_is_all_there_is,
             who_gets_the_last_item_may_free_the_queue, who_has_joined_may_free_the_queue,
             who_hears_that_it_is_closed_may_free_the_queue,
             who_finds_the_room_that_was_made_may_free_the_queue)
