/* test_mtask_queue_select.c - waiting for several queues: select; descriptors for poll and epoll;
   and waits that park a task instead of its thread */
#include "testing_queue.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>

#ifdef __linux__
# include <sys/epoll.h>
#endif

#define COUNT_OF(array) (sizeof(array) / sizeof(array)[0])

/* Makes `count` FIFOs. */
static void open_several(mtask_queue *queues, int count, size_t capacity) {
    for (int i = 0; i < count; i++)
        open_longs(&queues[i], MTASK_FIFO, capacity);
}

static void end_several(mtask_queue *queues, int count) {
    for (int i = 0; i < count; i++)
        ck_assert_status(mtask_queue_deinit(&queues[i]), MTASK_OK);
}

/* Whatever is in memory before it is a case must do no harm. */
static mtask_queue_case make_case(mtask_queue *queue, mtask_queue_op op, long *item) {
    mtask_queue_case made;
    memset(&made, 0xA5, sizeof made);
    made.queue = queue;
    made.op = op;
    made.item = item;
    return made;
}

/* Cases that get from each of the queues into one item. */
static void get_from_each(mtask_queue_case *cases, mtask_queue *queues, size_t n, long *item) {
    for (size_t i = 0; i < n; i++)
        cases[i] = make_case(&queues[i], MTASK_GET, item);
}

static void put_to_each(mtask_queue_case *cases, mtask_queue *queues, size_t n, long *item) {
    for (size_t i = 0; i < n; i++)
        cases[i] = make_case(&queues[i], MTASK_PUT, item);
}

/* ---- select: what it does and answers ---- */

START_TEST(select_gets_from_the_queue_that_has_something) {
    mtask_queue queues[4];
    mtask_queue_case cases[4];
    long item = -1;
    open_several(queues, 4, 2);
    for (size_t i = 0; i < 12; i++) {
        size_t fired = 99;
        get_from_each(cases, queues, 4, &item);
        put_long(&queues[i % 4], (long)i);
        ck_assert_status(mtask_queue_select(cases, 4, &fired,
                                            i < 4   ? MTASK_NOWAIT
                                            : i < 8 ? MTASK_FOREVER
                                                    : MTASK_SEC(60)),
                         MTASK_OK);
        ck_assert_uint_eq(fired, i % 4);
        ck_assert_int_eq(item, (long)i);
        ck_assert(mtask_queue_is_empty(&queues[i % 4]));
    }
    end_several(queues, 4);
}
END_TEST

START_TEST(select_puts_into_the_queue_that_has_room) {
    mtask_queue queues[4];
    mtask_queue_case cases[4];
    long item = -1;
    open_several(queues, 4, 1);
    for (int i = 0; i < 4; i++)
        put_long(&queues[i], 100);
    for (size_t i = 0; i < 8; i++) {
        size_t fired = 99;
        ck_assert_int_eq(get_long(&queues[i % 4]), 100);
        item = (long)i;
        put_to_each(cases, queues, 4, &item);
        ck_assert_status(mtask_queue_select(cases, 4, &fired, MTASK_FOREVER), MTASK_OK);
        ck_assert_uint_eq(fired, i % 4);
        ck_assert_int_eq(get_long(&queues[i % 4]), (long)i);
        put_long(&queues[i % 4], 100);
    }
    end_several(queues, 4);
}
END_TEST

START_TEST(select_does_puts_and_gets) {
    mtask_queue in, out;
    mtask_queue_case cases[2];
    long got = -1, given = 5;
    size_t fired = 99;
    open_longs(&in, MTASK_LIFO, 1);
    open_longs(&out, MTASK_PRIORITY, 1);
    cases[0] = make_case(&in, MTASK_GET, &got);
    cases[1] = make_case(&out, MTASK_PUT, &given);
    ck_assert_status(mtask_queue_select(cases, 2, &fired, MTASK_FOREVER), MTASK_OK);
    ck_assert_uint_eq(fired, 1);
    ck_assert_int_eq(got, -1);
    ck_assert_status(mtask_queue_select(cases, 2, &fired, MTASK_NOWAIT), MTASK_TIMEOUT);
    ck_assert_uint_eq(fired, 2);
    put_long(&in, 7);
    ck_assert_status(mtask_queue_select(cases, 2, NULL, MTASK_FOREVER), MTASK_OK);
    ck_assert_int_eq(got, 7);
    ck_assert_uint_eq(mtask_queue_size(&out), 1);
    ck_assert_int_eq(get_long(&out), 5);
    ck_assert_status(mtask_queue_deinit(&in), MTASK_OK);
    ck_assert_status(mtask_queue_deinit(&out), MTASK_OK);
}
END_TEST

START_TEST(select_of_one_queue_is_a_put_or_get) {
    for (int kind = 0; kind < KINDS; kind++)
        for (int bounded = 0; bounded < 2; bounded++) {
            mtask_queue queue;
            mtask_queue_case one;
            long item = 3;
            open_longs(&queue, (mtask_queue_kind)kind, bounded ? 1 : MTASK_UNBOUNDED);
            one = make_case(&queue, MTASK_PUT, &item);
            ck_assert_status(mtask_queue_select(&one, 1, NULL, MTASK_NOWAIT), MTASK_OK);
            ck_assert_uint_eq(mtask_queue_unfinished(&queue), 1);
            ck_assert_status(mtask_queue_select(&one, 1, NULL, MTASK_NOWAIT),
                             bounded ? MTASK_TIMEOUT : MTASK_OK);
            item = -1;
            one = make_case(&queue, MTASK_GET, &item);
            ck_assert_status(mtask_queue_select(&one, 1, NULL, MTASK_NOWAIT), MTASK_OK);
            ck_assert_int_eq(item, 3);
            ck_assert_status(mtask_queue_deinit(&queue), MTASK_OK);
        }
}
END_TEST

START_TEST(a_queue_may_be_in_several_cases) {
    mtask_queue queue;
    mtask_queue_case cases[4];
    long got[2] = {-1, -1}, given[2] = {1, 2};
    size_t fired = 99;
    open_longs(&queue, MTASK_FIFO, 1);
    for (int i = 0; i < 2; i++) {
        cases[i] = make_case(&queue, MTASK_GET, &got[i]);
        cases[2 + i] = make_case(&queue, MTASK_PUT, &given[i]);
    }
    for (int round = 0; round < 20; round++) {
        size_t put;
        ck_assert_status(mtask_queue_select(cases, 4, &put, MTASK_FOREVER), MTASK_OK);
        ck_assert(put == 2 || put == 3);
        ck_assert_uint_eq(mtask_queue_size(&queue), 1);
        ck_assert_status(mtask_queue_select(cases, 4, &fired, MTASK_FOREVER), MTASK_OK);
        ck_assert(fired == 0 || fired == 1);
        ck_assert_int_eq(got[fired], given[put - 2]);
        ck_assert(mtask_queue_is_empty(&queue));
    }
    ck_assert_status(mtask_queue_deinit(&queue), MTASK_OK);
}
END_TEST

START_TEST(cases_may_hold_items_of_different_sizes) {
    mtask_queue small, large;
    mtask_queue_desc desc = {0};
    mtask_queue_case cases[2];
    unsigned char one[2] = {0, 0xA5}, many[101];
    size_t fired = 9;
    memset(many, 7, sizeof many);
    desc.capacity = 1;
    desc.item_size = 1;
    ck_assert_status(mtask_queue_init(&small, &desc), MTASK_OK);
    desc.item_size = 100;
    ck_assert_status(mtask_queue_init(&large, &desc), MTASK_OK);
    ck_assert_status(mtask_queue_put(&large, many, 0), MTASK_OK);
    memset(many, 0xA5, sizeof many);
    cases[0] = make_case(&small, MTASK_GET, NULL);
    cases[0].item = one;
    cases[1] = cases[0];
    cases[1].queue = &large;
    cases[1].item = many;
    ck_assert_status(mtask_queue_select(cases, 2, &fired, MTASK_FOREVER), MTASK_OK);
    ck_assert_uint_eq(fired, 1);
    ck_assert(many[0] == 7 && many[99] == 7 && many[100] == 0xA5);
    many[0] = 9;
    ck_assert_status(mtask_queue_put(&small, many, 0), MTASK_OK);
    ck_assert_status(mtask_queue_select(cases, 2, &fired, MTASK_FOREVER), MTASK_OK);
    ck_assert_uint_eq(fired, 0);
    ck_assert(one[0] == 9 && one[1] == 0xA5);
    end_several(&small, 1);
    end_several(&large, 1);
}
END_TEST

START_TEST(select_takes_its_time_and_then_nothing_has_happened) {
    mtask_queue queues[2];
    mtask_queue_case cases[2];
    long got = -1, given = 5;
    const int64_t timeouts[] = {1, MTASK_US(50), MTASK_MS(15)};
    open_several(queues, 2, 1);
    put_long(&queues[1], 1);
    cases[0] = make_case(&queues[0], MTASK_GET, &got);
    cases[1] = make_case(&queues[1], MTASK_PUT, &given);
    for (size_t i = 0; i < COUNT_OF(timeouts); i++) {
        size_t fired = 99;
        int64_t start = mtask_now();
        ck_assert_status(mtask_queue_select(cases, 2, &fired, timeouts[i]), MTASK_TIMEOUT);
        ck_assert_int_ge(mtask_now() - start, timeouts[i]);
        ck_assert_uint_eq(fired, 2);
        ck_assert_int_eq(got, -1);
    }
    ck_assert(mtask_queue_is_empty(&queues[0]));
    ck_assert_int_eq(get_long(&queues[1]), 1);
    end_several(queues, 2);
}
END_TEST

START_TEST(select_of_nothing_just_waits) {
    mtask_queue_case none[2];
    size_t fired = 99;
    int64_t start = mtask_now();
    ck_assert_status(mtask_queue_select(NULL, 0, &fired, MTASK_NOWAIT), MTASK_TIMEOUT);
    ck_assert_uint_eq(fired, 0);
    ck_assert_status(mtask_queue_select(none, 0, &fired, MTASK_MS(10)), MTASK_TIMEOUT);
    ck_assert_int_ge(mtask_now() - start, MTASK_MS(10));
    none[0] = none[1] = make_case(NULL, MTASK_GET, NULL);
    ck_assert_status(mtask_queue_select(none, 2, &fired, MTASK_NOWAIT), MTASK_TIMEOUT);
    ck_assert_uint_eq(fired, 2);
    start = mtask_now();
    ck_assert_status(mtask_queue_select(none, 2, &fired, MTASK_MS(10)), MTASK_TIMEOUT);
    ck_assert_int_ge(mtask_now() - start, MTASK_MS(10));
}
END_TEST

START_TEST(a_case_without_queue_never_happens) {
    mtask_queue queue;
    mtask_queue_case cases[3];
    long item = -1;
    open_longs(&queue, MTASK_FIFO, 1);
    cases[0] = cases[2] = make_case(NULL, MTASK_PUT, &item);
    cases[1] = make_case(&queue, MTASK_GET, &item);
    for (long i = 0; i < 50; i++) {
        size_t fired = 99;
        put_long(&queue, i);
        ck_assert_status(mtask_queue_select(cases, 3, &fired, MTASK_FOREVER), MTASK_OK);
        ck_assert_uint_eq(fired, 1);
        ck_assert_int_eq(item, i);
    }
    ck_assert_status(mtask_queue_select(cases, 3, NULL, MTASK_MS(1)), MTASK_TIMEOUT);
    ck_assert_status(mtask_queue_deinit(&queue), MTASK_OK);
}
END_TEST

START_TEST(select_refuses_what_makes_no_sense) {
    mtask_queue queue;
    mtask_queue_case one;
    long item = 4;
    size_t fired = 99;
    open_longs(&queue, MTASK_FIFO, 2);
    one = make_case(&queue, MTASK_PUT, &item);
    ck_assert_status(mtask_queue_select(&one, 1, &fired, -1), MTASK_INVALID);
    ck_assert_status(mtask_queue_select(&one, 1, &fired, INT64_MIN), MTASK_INVALID);
    ck_assert_status(mtask_queue_select(NULL, 0, &fired, -1), MTASK_INVALID);
    ck_assert_status(mtask_queue_select(NULL, 1, &fired, MTASK_NOWAIT), MTASK_INVALID);
    ck_assert_status(mtask_queue_select(NULL, 0, &fired, MTASK_FOREVER), MTASK_INVALID);
    one.item = NULL;
    ck_assert_status(mtask_queue_select(&one, 1, &fired, MTASK_NOWAIT), MTASK_INVALID);
    one.queue = NULL;
    ck_assert_status(mtask_queue_select(&one, 1, &fired, MTASK_FOREVER), MTASK_INVALID);
    ck_assert(mtask_queue_is_empty(&queue));
    ck_assert_status(mtask_queue_deinit(&queue), MTASK_OK);
}
END_TEST

START_TEST(a_closed_queue_is_ready) {
    mtask_queue queues[2];
    mtask_queue_case cases[2];
    long item = -1;
    size_t fired = 99;
    open_several(queues, 2, 2);
    put_long(&queues[1], 8);
    ck_assert_status(mtask_queue_close(&queues[1]), MTASK_OK);
    get_from_each(cases, queues, 2, &item);
    ck_assert_status(mtask_queue_select(cases, 2, &fired, MTASK_FOREVER), MTASK_OK);
    ck_assert_uint_eq(fired, 1);
    ck_assert_int_eq(item, 8);
    fired = 99;
    ck_assert_status(mtask_queue_select(cases, 2, &fired, MTASK_FOREVER), MTASK_CLOSED);
    ck_assert_uint_eq(fired, 1);
    ck_assert_int_eq(item, 8);
    put_long(&queues[0], 1);
    put_long(&queues[0], 2);
    put_to_each(cases, queues, 2, &item);
    fired = 99;
    ck_assert_status(mtask_queue_select(cases, 2, &fired, MTASK_NOWAIT), MTASK_CLOSED);
    ck_assert_uint_eq(fired, 1);
    end_several(queues, 2);
}
END_TEST

/* ---- fairness ---- */

/* Of `n` queues those are ready whose bit is set; each must be chosen a fair share of the times. */
static void check_fairness(size_t n, unsigned ready, mtask_queue_op op) {
    mtask_queue queues[8];
    mtask_queue_case cases[8];
    long item = 0, chosen[8] = {0};
    long rounds = 4000, share = rounds / __builtin_popcount(ready);
    open_several(queues, (int)n, 1);
    for (size_t i = 0; i < n; i++) {
        cases[i] = make_case(&queues[i], op, &item);
        if (((ready >> i & 1) != 0) == (op == MTASK_GET))
            put_long(&queues[i], 1);
    }
    for (long round = 0; round < rounds; round++) {
        size_t fired = 99;
        ck_assert_status(mtask_queue_select(cases, n, &fired, MTASK_FOREVER), MTASK_OK);
        testing_check(fired < n);
        chosen[fired]++;
        if (op == MTASK_GET)
            put_long(&queues[fired], 1);
        else
            (void)get_long(&queues[fired]);
    }
    for (size_t i = 0; i < n; i++) {
        if ((ready >> i & 1) == 0)
            ck_assert_int_eq(chosen[i], 0);
        else
            ck_assert_msg(chosen[i] > share * 8 / 10 && chosen[i] < share * 12 / 10,
                          "case %zu of %zu, ready %#x: %ld times", i, n, ready, chosen[i]);
    }
    end_several(queues, (int)n);
}

START_TEST(each_ready_case_is_chosen_a_fair_share_of_times) {
    check_fairness(4, 0xF, MTASK_GET);
    check_fairness(4, 0xF, MTASK_PUT);
    check_fairness(4, 0xA, MTASK_GET);
    check_fairness(2, 0x3, MTASK_GET);
    check_fairness(5, 0x19, MTASK_PUT);
    check_fairness(8, 0xFF, MTASK_GET);
}
END_TEST

/* ---- waiting ---- */

typedef struct several {
    mtask_queue queues[3];
    mtask_queue_op op;
} several;

/* self->number: the item; self->took: which case. */
static void select_each(testing_member *self) {
    several *on = (several *)self->arg;
    mtask_queue_case cases[3];
    size_t fired = 99;
    for (size_t i = 0; i < 3; i++)
        cases[i] = make_case(&on->queues[i], on->op, &self->number);
    self->number = 100 + self->index;
    self->status = mtask_queue_select(cases, 3, &fired, MTASK_FOREVER);
    self->took = (int64_t)fired;
}

static void open_kinds(several *on, mtask_queue_op op) {
    on->op = op;
    for (int i = 0; i < 3; i++) {
        open_longs(&on->queues[i], (mtask_queue_kind)i, 1);
        if (op == MTASK_PUT)
            put_long(&on->queues[i], 50 + i);
    }
}

START_TEST(a_put_wakes_a_select_that_waits_for_items) {
    for (int i = 0; i < 3; i++)
        for (int batch = 0; batch < 2; batch++) {
            several on;
            testing_crowd crowd;
            long item = 6;
            open_kinds(&on, MTASK_GET);
            testing_crowd_start(&crowd, 1, select_each, &on);
            testing_await_asleep(&crowd.members[0]);
            if (batch)
                ck_assert_status(mtask_queue_put_many(&on.queues[i], &item, 1, NULL, 0), MTASK_OK);
            else
                put_long(&on.queues[i], 6);
            testing_crowd_join(&crowd);
            ck_assert_status(crowd.members[0].status, MTASK_OK);
            ck_assert_int_eq(crowd.members[0].took, i);
            ck_assert_int_eq(crowd.members[0].number, 6);
            end_several(on.queues, 3);
        }
}
END_TEST

START_TEST(room_wakes_a_select_that_wants_to_put) {
    for (int i = 0; i < 3; i++)
        for (int discard = 0; discard < 2; discard++) {
            several on;
            testing_crowd crowd;
            open_kinds(&on, MTASK_PUT);
            testing_crowd_start(&crowd, 1, select_each, &on);
            testing_await_asleep(&crowd.members[0]);
            if (discard)
                ck_assert_status(mtask_queue_discard(&on.queues[i], NULL, NULL, NULL), MTASK_OK);
            else
                ck_assert_int_eq(get_long(&on.queues[i]), 50 + i);
            testing_crowd_join(&crowd);
            ck_assert_status(crowd.members[0].status, MTASK_OK);
            ck_assert_int_eq(crowd.members[0].took, i);
            ck_assert_int_eq(get_long(&on.queues[i]), 100);
            end_several(on.queues, 3);
        }
}
END_TEST

START_TEST(close_wakes_all_selects) {
    for (int op = MTASK_GET; op <= MTASK_PUT; op++)
        for (int i = 0; i < 3; i++) {
            several on;
            testing_crowd crowd;
            open_kinds(&on, (mtask_queue_op)op);
            testing_crowd_start(&crowd, 4, select_each, &on);
            testing_crowd_await_asleep(&crowd, 4);
            ck_assert_status(mtask_queue_close(&on.queues[i]), MTASK_OK);
            testing_crowd_join(&crowd);
            ck_assert_int_eq(testing_crowd_count(&crowd, MTASK_CLOSED), 4);
            for (int j = 0; j < 4; j++)
                ck_assert_int_eq(crowd.members[j].took, i);
            end_several(on.queues, 3);
        }
}
END_TEST

START_TEST(a_select_goes_on_after_signals_and_uses_no_cpu) {
    several on;
    testing_crowd crowd;
    testing_catch_signals();
    open_kinds(&on, MTASK_GET);
    testing_crowd_start(&crowd, 1, select_each, &on);
    testing_interrupt(&crowd.members[0]);
    testing_check_idle(&crowd.members[0]);
    for (int i = 0; i < 3; i++) /* all of them are in use */
        ck_assert_status(mtask_queue_deinit(&on.queues[i]), MTASK_INVALID);
    put_long(&on.queues[2], 1);
    testing_crowd_join(&crowd);
    ck_assert_int_eq(crowd.members[0].took, 2);
    end_several(on.queues, 3);
}
END_TEST

static void get_twice_from_one(testing_member *self) {
    mtask_queue *queue = (mtask_queue *)self->arg;
    mtask_queue_case cases[2];
    long items[2] = {0, 0};
    size_t fired = 99;
    cases[0] = make_case(queue, MTASK_GET, &items[0]);
    cases[1] = make_case(queue, MTASK_GET, &items[1]);
    self->status = mtask_queue_select(cases, 2, &fired, MTASK_FOREVER);
    testing_check(fired < 2 && items[1 - fired] == 0);
    self->number = items[fired];
}

START_TEST(selects_that_name_a_queue_twice_take_one_item_each) {
    mtask_queue queue;
    for (int round = 0; round < 20; round++) {
        testing_crowd crowd;
        long sum = 0;
        open_longs(&queue, MTASK_FIFO, 4);
        testing_crowd_start(&crowd, 3, get_twice_from_one, &queue);
        if (round % 2 == 0)
            testing_crowd_await_asleep(&crowd, 3);
        for (long i = 1; i <= 3; i++)
            put_long(&queue, i);
        testing_crowd_join(&crowd);
        for (int i = 0; i < 3; i++)
            sum += crowd.members[i].number;
        ck_assert_int_eq(sum, 6);
        ck_assert(mtask_queue_is_empty(&queue));
        ck_assert_status(mtask_queue_deinit(&queue), MTASK_OK);
    }
}
END_TEST

/* ---- nobody sleeps beside what he waits for ---- */

#define WAITERS 6

/* Each waiter waits for some of the queues, by a select or, if it is but one, by a plain call. */
typedef struct gathering {
    mtask_queue queues[3];
    mtask_queue_op op;
    unsigned wanted[WAITERS]; /* bits */
    bool plain[WAITERS];
} gathering;

static void wait_for_some(testing_member *self) {
    gathering *on = (gathering *)self->arg;
    unsigned wanted = on->wanted[self->index];
    mtask_queue_case cases[3];
    size_t n = 0;
    for (int i = 0; i < 3; i++)
        if ((wanted >> i & 1) != 0)
            cases[n++] = make_case(&on->queues[i], on->op, &self->number);
    if (!on->plain[self->index])
        self->status = mtask_queue_select(cases, n, NULL, MTASK_FOREVER);
    else if (on->op == MTASK_GET)
        self->status = mtask_queue_get(cases[0].queue, &self->number, MTASK_FOREVER);
    else
        self->status = mtask_queue_put(cases[0].queue, &self->number, MTASK_FOREVER);
}

static bool could_go_on(mtask_queue *queue, mtask_queue_op op) {
    return op == MTASK_GET ? !mtask_queue_is_empty(queue) : !mtask_queue_is_full(queue);
}

static void make_one_go_on(mtask_queue *queue, mtask_queue_op op) {
    long item = 1;
    if (op == MTASK_GET)
        put_long(queue, 1);
    else
        ck_assert_status(mtask_queue_get(queue, &item, MTASK_NOWAIT), MTASK_OK);
}

/* Makes up to WAITERS things happen at once; then all who still sleep must have nothing to do. */
static void gather(gathering *on, testing_random *random) {
    testing_crowd crowd;
    unsigned happen[3];
    testing_crowd_start(&crowd, WAITERS, wait_for_some, on);
    testing_crowd_await_asleep(&crowd, WAITERS);
    for (int i = 0; i < 3; i++)
        happen[i] = (unsigned)testing_below(random, 4);
    while (happen[0] + happen[1] + happen[2] > 0) {
        uint64_t i = testing_below(random, 3);
        if (happen[i] == 0)
            continue;
        happen[i]--;
        make_one_go_on(&on->queues[i], on->op);
    }
    testing_crowd_await_settled(&crowd);
    for (int i = 0; i < WAITERS; i++)
        for (int j = 0; j < 3; j++)
            testing_check(testing_has_finished(&crowd.members[i]) ||
                          (on->wanted[i] >> j & 1) == 0 || !could_go_on(&on->queues[j], on->op));
    for (int j = 0; j < 3; j++)
        ck_assert_status(mtask_queue_close(&on->queues[j]), MTASK_OK);
    testing_crowd_join(&crowd);
}

START_TEST(nobody_sleeps_beside_what_he_waits_for) {
    testing_random random = testing_random_make(testing_seed(), 0);
    long rounds = testing_scale(160);
    int64_t start = mtask_now();
    for (long round = 0; round < rounds && mtask_now() - start < MTASK_SEC(3); round++) {
        gathering on;
        on.op = testing_below(&random, 3) == 0 ? MTASK_PUT : MTASK_GET;
        for (int i = 0; i < 3; i++) {
            open_longs(&on.queues[i], (mtask_queue_kind)testing_below(&random, KINDS), 4);
            for (int j = 0; on.op == MTASK_PUT && j < 4; j++)
                put_long(&on.queues[i], 1);
        }
        for (int i = 0; i < WAITERS; i++) {
            on.wanted[i] = 1 + (unsigned)testing_below(&random, 7);
            on.plain[i] = (on.wanted[i] & (on.wanted[i] - 1)) == 0 && testing_below(&random, 2);
        }
        gather(&on, &random);
        end_several(on.queues, 3);
    }
}
END_TEST

/* The first select hears of both queues, and can take from one only: the other one's item is for
   the second waiter, who must hear of it then. */
static void get_from_both(testing_member *self) {
    several *on = (several *)self->arg;
    mtask_queue_case cases[2];
    get_from_each(cases, on->queues, 2, &self->number);
    self->status = mtask_queue_select(cases, 2, NULL, MTASK_FOREVER);
}

static void select_the_second(testing_member *self) {
    several *on = (several *)self->arg;
    mtask_queue_case one = make_case(&on->queues[1], MTASK_GET, &self->number);
    self->status = mtask_queue_select(&one, 1, NULL, MTASK_FOREVER);
}

START_TEST(a_select_passes_on_what_it_heard_and_did_not_take) {
    long rounds = testing_scale(400);
    int64_t start = mtask_now();
    for (long round = 0; round < rounds && mtask_now() - start < MTASK_SEC(2); round++) {
        several on;
        testing_crowd crowd;
        open_several(on.queues, 2, 2);
        testing_crowd_start(&crowd, 1, get_from_both, &on);
        testing_await_asleep(&crowd.members[0]);
        (void)testing_crowd_add(&crowd, select_the_second, &on);
        testing_await_asleep(&crowd.members[1]);
        put_long(&on.queues[round % 2], 1);
        put_long(&on.queues[1 - round % 2], 2);
        testing_await_finished(&crowd, 1);
        if (mtask_queue_is_empty(
                &on.queues[0])) /* the first took that: the second gets the other */
            testing_await_finished(&crowd, 2);
        put_long(&on.queues[1], 3);
        testing_crowd_join(&crowd);
        end_several(on.queues, 2);
    }
}
END_TEST

/* ---- exactly one case happens ---- */

typedef struct market {
    mtask_queue queues[4];
    long each;    /* how many items each seller sells, if there is time */
    long sellers; /* who are not done yet */
    uint64_t seed;
    int64_t start;
} market;

static void sell(testing_member *self) {
    market *on = (market *)self->arg;
    testing_random random = testing_random_make(on->seed, (unsigned)self->index);
    for (long i = 1; i <= on->each && testing_has_time(on->start); i++) {
        mtask_queue_case cases[4];
        long items[4];
        size_t fired = 99, n = 1 + (size_t)testing_below(&random, 4);
        for (size_t j = 0; j < n; j++) {
            items[j] = i; /* each case has its own: only one of them may go */
            cases[j] = make_case(&on->queues[testing_below(&random, 4)], MTASK_PUT, &items[j]);
        }
        if (testing_below(&random, 4) == 0) {
            ck_assert_status(mtask_queue_put(cases[0].queue, &i, MTASK_FOREVER), MTASK_OK);
        } else {
            ck_assert_status(mtask_queue_select(cases, n, &fired, MTASK_FOREVER), MTASK_OK);
            testing_check(fired < n);
        }
        self->number += i;
    }
    if (__atomic_sub_fetch(&on->sellers, 1, __ATOMIC_SEQ_CST) == 0)
        for (int i = 0; i < 4; i++)
            ck_assert_status(mtask_queue_close(&on->queues[i]), MTASK_OK);
}

/* Buys until all queues are closed and empty; now and then it does not wait for long. */
static void buy(testing_member *self) {
    market *on = (market *)self->arg;
    testing_random random = testing_random_make(on->seed, (unsigned)self->index);
    mtask_queue_case cases[4];
    long items[4] = {0, 0, 0, 0};
    for (size_t i = 0; i < 4; i++)
        cases[i] = make_case(&on->queues[i], MTASK_GET, &items[i]);
    for (int open = 4; open > 0;) {
        size_t fired = 99;
        int64_t timeout =
            testing_below(&random, 4) == 0 ? (int64_t)testing_below(&random, 2000) : MTASK_FOREVER;
        mtask_status status = mtask_queue_select(cases, 4, &fired, timeout);
        if (status == MTASK_TIMEOUT) {
            testing_check(timeout != MTASK_FOREVER && fired == 4);
        } else if (status == MTASK_CLOSED) {
            cases[fired].queue = NULL;
            open--;
        } else {
            ck_assert_status(status, MTASK_OK);
            self->number += items[fired];
            items[fired] = 0;
        }
        for (int i = 0; i < 4; i++)
            testing_check(items[i] == 0); /* nothing came by another case */
    }
}

static void buy_plainly(testing_member *self) {
    market *on = (market *)self->arg;
    long item;
    while (mtask_queue_get(&on->queues[self->index % 4], &item, MTASK_FOREVER) == MTASK_OK)
        self->number += item;
}

static void hold_market(size_t capacity, int sellers, int buyers, int plain, uint64_t seed) {
    market on;
    testing_crowd crowd;
    long sold = 0, bought = 0;
    on.each = testing_scale(2500);
    on.sellers = sellers;
    on.seed = seed;
    on.start = mtask_now();
    for (int i = 0; i < 4; i++)
        open_longs(&on.queues[i], (mtask_queue_kind)(i % KINDS),
                   i == 3 && capacity == 64 ? MTASK_UNBOUNDED : capacity);
    testing_crowd_start(&crowd, sellers, sell, &on);
    for (int i = 0; i < buyers; i++)
        (void)testing_crowd_add(&crowd, buy, &on);
    for (int i = 0; i < plain; i++)
        (void)testing_crowd_add(&crowd, buy_plainly, &on);
    testing_crowd_join(&crowd);
    for (int i = 0; i < crowd.count; i++)
        *(i < sellers ? &sold : &bought) += crowd.members[i].number;
    ck_assert_int_eq(bought, sold);
    ck_assert_int_gt(sold, 0);
    for (int i = 0; i < 4; i++)
        ck_assert(mtask_queue_is_empty(&on.queues[i]));
    end_several(on.queues, 4);
}

START_TEST(exactly_one_case_happens_however_many_compete) {
    uint64_t seed = testing_seed();
    hold_market(1, 1, 1, 0, seed);
    hold_market(1, 2, 2, 0, seed + 1);
    hold_market(1, 3, 3, 2, seed + 2);
    hold_market(3, 2, 1, 4, seed + 3);
    hold_market(64, 2, 2, 2, seed + 4);
}
END_TEST

/* ---- a descriptor for poll and epoll ---- */

static int open_fd(mtask_queue *queue) {
    int fd = -1;
    ck_assert_status(mtask_queue_pollfd(queue, &fd), MTASK_OK);
    ck_assert_int_ge(fd, 0);
    return fd;
}

/* Whether it becomes readable within so many milliseconds (-1: forever). */
static bool is_readable(int fd, int milliseconds) {
    struct pollfd entry = {fd, POLLIN, 0};
    int ready = poll(&entry, 1, milliseconds);
    testing_check(ready >= 0 || errno == EINTR);
    testing_check(ready <= 0 || entry.revents == POLLIN);
    return ready > 0;
}

/* Takes all there is, as the descriptor's users do; returns how many. */
static long drain(mtask_queue *queue, mtask_status end) {
    mtask_status status;
    long item, count = 0;
    while ((status = mtask_queue_get(queue, &item, MTASK_NOWAIT)) == MTASK_OK)
        count++;
    ck_assert_status(status, end);
    return count;
}

static void check_fd(mtask_queue *queue) {
    int fd = open_fd(queue);
    ck_assert_int_eq(open_fd(queue), fd); /* there is but one */
    ck_assert_int_ne(fcntl(fd, F_GETFD) & FD_CLOEXEC, 0);
    for (int round = 0; round < 3; round++) {
        ck_assert(!is_readable(fd, 0));
        put_long(queue, 1);
        ck_assert(is_readable(fd, 0));
        put_long(queue, 2);
        ck_assert(get_long(queue) > 0);
        ck_assert(is_readable(fd, 0)); /* one is left */
        ck_assert(is_readable(fd, 0));
        ck_assert_int_eq(drain(queue, MTASK_EMPTY), 1);
        ck_assert(!is_readable(fd, 0));
        ck_assert_int_eq(drain(queue, MTASK_EMPTY), 0);
        ck_assert(!is_readable(fd, 0));
    }
    put_long(queue, 1);
    ck_assert_status(mtask_queue_close(queue), MTASK_OK);
    ck_assert(is_readable(fd, 0));
    ck_assert_int_eq(drain(queue, MTASK_CLOSED), 1);
    ck_assert(is_readable(fd, 0));
    ck_assert_int_eq(drain(queue, MTASK_CLOSED), 0);
    ck_assert(is_readable(fd, 0));
    ck_assert_int_eq(open_fd(queue), fd);
}

START_TEST(the_descriptor_is_readable_while_there_are_items) {
    for (int kind = 0; kind < KINDS; kind++)
        for (int bounded = 0; bounded < 2; bounded++) {
            mtask_queue queue;
            int fd;
            open_longs(&queue, (mtask_queue_kind)kind, bounded ? 2 : MTASK_UNBOUNDED);
            check_fd(&queue);
            fd = open_fd(&queue);
            ck_assert_status(mtask_queue_deinit(&queue), MTASK_OK);
            ck_assert_int_eq(fcntl(fd, F_GETFD), -1); /* it ends with the queue */
        }
}
END_TEST

START_TEST(a_descriptor_made_late_tells_of_what_is_there) {
    for (int kind = 0; kind < KINDS; kind++) {
        mtask_queue queue;
        open_longs(&queue, (mtask_queue_kind)kind, 2);
        put_long(&queue, 1);
        ck_assert(is_readable(open_fd(&queue), 0));
        ck_assert_int_eq(drain(&queue, MTASK_EMPTY), 1);
        ck_assert(!is_readable(open_fd(&queue), 0));
        ck_assert_status(mtask_queue_deinit(&queue), MTASK_OK);
        open_longs(&queue, (mtask_queue_kind)kind, 2);
        ck_assert_status(mtask_queue_close(&queue), MTASK_OK);
        ck_assert(is_readable(open_fd(&queue), 0));
        ck_assert_status(mtask_queue_deinit(&queue), MTASK_OK);
    }
}
END_TEST

static void close_empty_queue(mtask_queue *queue) {
    ck_assert_status(mtask_queue_close(queue), MTASK_OK);
}

static void put_by_select(mtask_queue *queue) {
    long item = 5;
    mtask_queue_case one = make_case(queue, MTASK_PUT, &item);
    ck_assert_status(mtask_queue_select(&one, 1, NULL, MTASK_NOWAIT), MTASK_OK);
}

static void put_batch(mtask_queue *queue) {
    long items[3] = {1, 2, 3};
    ck_assert_status(mtask_queue_put_many(queue, items, 3, NULL, MTASK_NOWAIT), MTASK_OK);
}

static void put_one(mtask_queue *queue) {
    put_long(queue, 1);
}

static void poll_forever(testing_member *self) {
    self->number = is_readable(*(int *)self->arg, -1);
}

START_TEST(every_way_to_put_ends_a_poll) {
    void (*const ways[])(mtask_queue *) = {put_one, put_batch, put_by_select, close_empty_queue};
    for (size_t i = 0; i < COUNT_OF(ways); i++)
        for (int kind = 0; kind < KINDS; kind++) {
            mtask_queue queue;
            testing_crowd crowd;
            int fd;
            open_longs(&queue, (mtask_queue_kind)kind, 3);
            fd = open_fd(&queue);
            testing_crowd_start(&crowd, 1, poll_forever, &fd);
            testing_await_asleep(&crowd.members[0]);
            ways[i](&queue);
            testing_crowd_join(&crowd);
            ck_assert_int_eq(crowd.members[0].number, 1);
            ck_assert_status(mtask_queue_deinit(&queue), MTASK_OK);
        }
}
END_TEST

static void drain_by_batch(mtask_queue *queue) {
    long items[8];
    mtask_status status;
    do
        status = mtask_queue_get_many(queue, items, 8, NULL, MTASK_NOWAIT);
    while (status == MTASK_OK);
    ck_assert_status(status, MTASK_EMPTY);
}

static void drain_by_select(mtask_queue *queue) {
    long item;
    mtask_queue_case one = make_case(queue, MTASK_GET, &item);
    while (mtask_queue_select(&one, 1, NULL, MTASK_NOWAIT) == MTASK_OK)
        continue;
    ck_assert_int_eq(drain(queue, MTASK_EMPTY), 0);
}

static void drain_by_discard(mtask_queue *queue) {
    ck_assert_status(mtask_queue_discard(queue, NULL, NULL, NULL), MTASK_OK);
    ck_assert_int_eq(drain(queue, MTASK_EMPTY), 0);
}

static void drain_by_timed_get(mtask_queue *queue) {
    long item;
    while (mtask_queue_get(queue, &item, MTASK_US(100)) == MTASK_OK)
        continue;
}

START_TEST(however_it_is_drained_the_descriptor_becomes_quiet) {
    void (*const ways[])(mtask_queue *) = {drain_by_batch, drain_by_select, drain_by_discard,
                                           drain_by_timed_get};
    for (size_t i = 0; i < COUNT_OF(ways); i++)
        for (int kind = 0; kind < KINDS; kind++) {
            mtask_queue queue;
            int fd;
            open_longs(&queue, (mtask_queue_kind)kind, 3);
            fd = open_fd(&queue);
            for (int round = 0; round < 3; round++) {
                put_batch(&queue);
                ck_assert(is_readable(fd, 0));
                ways[i](&queue);
                ck_assert(!is_readable(fd, 0));
            }
            ck_assert_status(mtask_queue_deinit(&queue), MTASK_OK);
        }
}
END_TEST

/* Nothing piles up in the descriptor though nobody looks at it. */
START_TEST(puts_never_wait_for_who_watches) {
    mtask_queue queue;
    int fd;
    long count = testing_scale(300000);
    open_longs(&queue, MTASK_FIFO, 4);
    fd = open_fd(&queue);
    for (long i = 0; i < count; i++) {
        put_long(&queue, i);
        testing_check(get_long(&queue) == i);
        if (i % 3 == 0)
            ck_assert_int_eq(drain(&queue, MTASK_EMPTY), 0);
    }
    ck_assert_int_eq(drain(&queue, MTASK_EMPTY), 0);
    ck_assert(!is_readable(fd, 0));
    ck_assert_status(mtask_queue_deinit(&queue), MTASK_OK);
}
END_TEST

#ifdef __linux__
static int watch(int fd, uint32_t events) {
    struct epoll_event event;
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    memset(&event, 0, sizeof event);
    event.events = events;
    ck_assert_int_ge(epoll, 0);
    ck_assert_int_eq(epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event), 0);
    return epoll;
}

static int epoll_tells(int epoll) {
    struct epoll_event event;
    return epoll_wait(epoll, &event, 1, 0);
}

START_TEST(epoll_tells_of_items_by_level_and_by_edge) {
    for (int kind = 0; kind < KINDS; kind++) {
        mtask_queue queue;
        int fd, level, edge;
        open_longs(&queue, (mtask_queue_kind)kind, 3);
        fd = open_fd(&queue);
        level = watch(fd, EPOLLIN);
        edge = watch(fd, EPOLLIN | (uint32_t)EPOLLET);
        for (int round = 0; round < 5; round++) {
            ck_assert_int_eq(epoll_tells(level), 0);
            ck_assert_int_eq(epoll_tells(edge), 0);
            put_long(&queue, 1);
            ck_assert_int_eq(epoll_tells(level), 1);
            ck_assert_int_eq(epoll_tells(edge), 1);
            ck_assert_int_eq(epoll_tells(level), 1);
            ck_assert_int_eq(drain(&queue, MTASK_EMPTY), 1);
        }
        ck_assert_int_eq(epoll_tells(level), 0);
        ck_assert_status(mtask_queue_close(&queue), MTASK_OK);
        ck_assert_int_eq(epoll_tells(level), 1);
        ck_assert_int_eq(epoll_tells(edge), 1);
        ck_assert_int_eq(drain(&queue, MTASK_CLOSED), 0);
        ck_assert_int_eq(epoll_tells(level), 1);
        close(level);
        close(edge);
        ck_assert_status(mtask_queue_deinit(&queue), MTASK_OK);
    }
}
END_TEST
#endif

/* ---- pollers among putters and getters ---- */

typedef struct watched {
    mtask_queue queue;
    int fd;
    bool edge; /* the pollers use epoll, which tells of changes only */
    long each;
    int64_t start;
} watched;

static void put_watched(testing_member *self) {
    watched *on = (watched *)self->arg;
    testing_random random = testing_random_make((uint64_t)self->index + 1, 0);
    for (long i = 1; i <= on->each && testing_has_time(on->start); i++) {
        ck_assert_status(mtask_queue_put(&on->queue, &i, MTASK_FOREVER), MTASK_OK);
        self->number += i;
        if (testing_below(&random, 8) == 0)
            testing_dawdle(&random, 2000);
    }
}

static void get_watched(testing_member *self) {
    watched *on = (watched *)self->arg;
    long item;
    while (mtask_queue_get(&on->queue, &item, MTASK_FOREVER) == MTASK_OK)
        self->number += item;
}

/* Waits for news for so long that a lost one shows: whoever sees none for seconds, while items are
   there or the queue is closed, was not told. */
static void await_news(const watched *on, int epoll) {
    int64_t start = mtask_now();
    for (;;) {
#ifdef __linux__
        struct epoll_event event;
        if (epoll >= 0 ? epoll_wait(epoll, &event, 1, 500) == 1 : is_readable(on->fd, 500))
            return;
#else
        if (is_readable(on->fd, 500))
            return;
#endif
        testing_check(mtask_now() - start < MTASK_SEC(8) ||
                      (mtask_queue_is_empty(&on->queue) && !mtask_queue_is_closed(&on->queue)));
    }
}

static void poll_watched(testing_member *self) {
    watched *on = (watched *)self->arg;
    mtask_status status = MTASK_OK;
    int epoll = -1;
#ifdef __linux__
    if (on->edge)
        epoll = watch(on->fd, EPOLLIN | (uint32_t)EPOLLET);
#endif
    while (status != MTASK_CLOSED) {
        long item;
        await_news(on, epoll);
        while ((status = mtask_queue_get(&on->queue, &item, MTASK_NOWAIT)) == MTASK_OK)
            self->number += item;
        testing_check(status == MTASK_EMPTY || status == MTASK_CLOSED);
    }
    if (epoll >= 0)
        close(epoll);
}

static void run_watched(mtask_queue_kind kind, size_t capacity, int getters, bool edge) {
    watched on;
    testing_crowd putters, takers;
    long put = 0, got = 0;
    on.each = testing_scale(8000);
    on.start = mtask_now();
    on.edge = edge;
    open_longs(&on.queue, kind, capacity);
    on.fd = open_fd(&on.queue);
    testing_crowd_start(&takers, 1, poll_watched, &on);
    for (int i = 0; i < getters; i++)
        (void)testing_crowd_add(&takers, get_watched, &on);
    testing_crowd_start(&putters, 2, put_watched, &on);
    testing_crowd_join(&putters);
    ck_assert_status(mtask_queue_close(&on.queue), MTASK_OK);
    testing_crowd_join(&takers);
    for (int i = 0; i < putters.count; i++)
        put += putters.members[i].number;
    for (int i = 0; i < takers.count; i++)
        got += takers.members[i].number;
    ck_assert_int_eq(got, put);
    ck_assert_status(mtask_queue_deinit(&on.queue), MTASK_OK);
}

START_TEST(a_poller_hears_of_every_item) {
    for (int kind = 0; kind < KINDS; kind++) {
        run_watched((mtask_queue_kind)kind, 1, 0, false);
        run_watched((mtask_queue_kind)kind, 64, 0, false);
        run_watched((mtask_queue_kind)kind, 3, 1, false);
        run_watched((mtask_queue_kind)kind, MTASK_UNBOUNDED, 0, false);
    }
}
END_TEST

START_TEST(a_poller_of_edges_hears_of_every_item) {
    for (int kind = 0; kind < KINDS; kind++) {
        run_watched((mtask_queue_kind)kind, 2, 0, true);
        run_watched((mtask_queue_kind)kind, 64, 0, true);
        run_watched((mtask_queue_kind)kind, MTASK_UNBOUNDED, 0, true);
    }
}
END_TEST

/* A poll that begins just when an item is put, round after round: each needs its own news. */
typedef struct echo {
    mtask_queue there;
    mtask_queue back;
    long rounds;
    int64_t start;
} echo;

static void poll_and_echo(testing_member *self) {
    echo *on = (echo *)self->arg;
    int fd = open_fd(&on->there);
    for (;;) {
        long item = -1;
        mtask_status status;
        while ((status = mtask_queue_get(&on->there, &item, MTASK_NOWAIT)) == MTASK_EMPTY)
            testing_check(is_readable(fd, 20000));
        if (status == MTASK_CLOSED)
            return;
        ck_assert_status(status, MTASK_OK);
        ck_assert_status(mtask_queue_put(&on->back, &item, MTASK_FOREVER), MTASK_OK);
    }
}

START_TEST(a_poller_and_a_putter_take_turns) {
    for (int kind = 0; kind < KINDS; kind++) {
        echo on;
        testing_crowd crowd;
        int fd;
        on.rounds = testing_scale(8000);
        on.start = mtask_now();
        open_longs(&on.there, (mtask_queue_kind)kind, 2);
        open_longs(&on.back, (mtask_queue_kind)kind, 2);
        fd = open_fd(&on.back);
        testing_crowd_start(&crowd, 1, poll_and_echo, &on);
        for (long i = 0; i < on.rounds && testing_has_time(on.start); i++) {
            long item = -1;
            put_long(&on.there, i);
            while (mtask_queue_get(&on.back, &item, MTASK_NOWAIT) == MTASK_EMPTY)
                testing_check(is_readable(fd, 20000));
            testing_check(item == i);
        }
        ck_assert_status(mtask_queue_close(&on.there), MTASK_OK);
        testing_crowd_join(&crowd);
        end_several(&on.there, 1);
        end_several(&on.back, 1);
    }
}
END_TEST

/* ---- waits that park a task ---- */

/* A loop of the simplest sort: while its task is parked, the thread does something else, which
   `meanwhile` is, and then goes on with the task if it was woken, or ends its wait with `end`. */
typedef struct nest {
    mtask__parker parker; /* first: the table knows only this */
    mtask__task task;
    mtask__task *last; /* what ran before */
    void (*meanwhile)(struct nest *self);
    mtask_queue *queue;
    mtask_status end; /* how a wait ends in which nobody wakes the task */
    mtask_word posted;
    int parks;
} nest;

static void nest_post(mtask__parker *parker, mtask__waiter *waiter) {
    nest *self = (nest *)parker;
    testing_check(waiter->parker == parker);
    mtask_word_store(&self->posted, 1);
}

static mtask_status nest_park(mtask__parker *parker, mtask__waiter *waiter, int64_t deadline) {
    nest *self = (nest *)parker;
    testing_check(mtask__task_current() == &self->task && deadline > 0);
    self->parks++;
    (void)mtask__task_switch(self->last); /* the thread goes on */
    if (self->meanwhile != NULL)
        self->meanwhile(self);
    (void)mtask__task_switch(&self->task);
    while (mtask_word_load(&self->posted) == 0 && (waiter->flags & MTASK__NOCANCEL) != 0 &&
           mtask_now() < deadline)
        sched_yield(); /* it asks for no more than a moment's rest */
    if (mtask_word_load(&self->posted) == 0 && mtask__unpark(waiter))
        return (waiter->flags & MTASK__NOCANCEL) != 0 ? MTASK_TIMEOUT : self->end;
    while (mtask_word_load(&self->posted) == 0) /* a waker has it */
        sched_yield();
    mtask_word_store(&self->posted, 0);
    return MTASK_OK;
}

/* From now on the calling thread runs a task. */
static void nest_enter(nest *self, mtask_queue *queue, void (*meanwhile)(nest *self),
                       mtask_status end) {
    memset(self, 0, sizeof *self);
    self->parker.park = nest_park;
    self->parker.post = nest_post;
    self->queue = queue;
    self->meanwhile = meanwhile;
    self->end = end;
    mtask__task_init(&self->task, &self->parker);
    self->last = mtask__task_switch(&self->task);
}

static void nest_leave(nest *self) {
    ck_assert_ptr_eq(mtask__task_switch(self->last), &self->task);
}

static void put_meanwhile(nest *self) {
    put_long(self->queue, 77);
}

static void get_meanwhile(nest *self) {
    ck_assert_int_gt(get_long(self->queue), 0);
}

static void finish_meanwhile(nest *self) {
    ck_assert_status(mtask_queue_task_done(self->queue), MTASK_OK);
}

static void close_meanwhile(nest *self) {
    ck_assert_status(mtask_queue_close(self->queue), MTASK_OK);
}

/* The thread that put the item is the one whose task waits for it: so it was not blocked. Woken
   beats cancelled, too. */
START_TEST(a_getter_parks_its_task_and_not_its_thread) {
    for (int kind = 0; kind < KINDS; kind++)
        for (int bounded = 0; bounded < 2; bounded++) {
            mtask_queue queue;
            nest task;
            long item = -1;
            open_longs(&queue, (mtask_queue_kind)kind, bounded ? 1 : MTASK_UNBOUNDED);
            nest_enter(&task, &queue, put_meanwhile, MTASK_CANCELED);
            ck_assert_status(mtask_queue_get(&queue, &item, MTASK_FOREVER), MTASK_OK);
            ck_assert_int_eq(item, 77);
            ck_assert_status(mtask_queue_get_many(&queue, &item, 1, NULL, MTASK_SEC(60)), MTASK_OK);
            ck_assert_int_eq(task.parks, 2);
            task.meanwhile = close_meanwhile;
            ck_assert_status(mtask_queue_get(&queue, &item, MTASK_FOREVER), MTASK_CLOSED);
            ck_assert_int_eq(task.parks, 3);
            nest_leave(&task);
            ck_assert_status(mtask_queue_deinit(&queue), MTASK_OK);
        }
}
END_TEST

START_TEST(a_putter_parks_its_task_and_not_its_thread) {
    for (int kind = 0; kind < KINDS; kind++) {
        mtask_queue queue;
        nest task;
        long items[3] = {1, 2, 3};
        size_t moved = 0;
        open_longs(&queue, (mtask_queue_kind)kind, 1);
        nest_enter(&task, &queue, get_meanwhile, MTASK_CANCELED);
        put_long(&queue, 9);
        ck_assert_status(mtask_queue_put(&queue, items, MTASK_FOREVER), MTASK_OK);
        ck_assert_int_eq(task.parks, 1);
        ck_assert_status(mtask_queue_put_many(&queue, items, 3, &moved, MTASK_FOREVER), MTASK_OK);
        ck_assert_uint_eq(moved, 3);
        ck_assert_int_eq(task.parks, 4);
        task.meanwhile = close_meanwhile;
        ck_assert_status(mtask_queue_put_many(&queue, items, 3, &moved, MTASK_FOREVER),
                         MTASK_CLOSED);
        ck_assert_uint_eq(moved, 0);
        nest_leave(&task);
        ck_assert_status(mtask_queue_deinit(&queue), MTASK_OK);
    }
}
END_TEST

START_TEST(joins_and_selects_park_their_task_and_not_their_thread) {
    mtask_queue queues[2];
    mtask_queue_case cases[2];
    nest task;
    long item = -1;
    size_t fired = 99;
    open_several(queues, 2, 1);
    nest_enter(&task, &queues[1], finish_meanwhile, MTASK_CANCELED);
    put_long(&queues[1], 5);
    ck_assert_status(mtask_queue_join(&queues[1], MTASK_FOREVER), MTASK_OK);
    ck_assert_int_eq(task.parks, 1);
    ck_assert_int_eq(get_long(&queues[1]), 5);
    task.meanwhile = put_meanwhile;
    get_from_each(cases, queues, 2, &item);
    ck_assert_status(mtask_queue_select(cases, 2, &fired, MTASK_FOREVER), MTASK_OK);
    ck_assert_uint_eq(fired, 1);
    ck_assert_int_eq(item, 77);
    ck_assert_int_eq(task.parks, 2);
    task.meanwhile = close_meanwhile;
    ck_assert_status(mtask_queue_select(cases, 2, &fired, MTASK_SEC(60)), MTASK_CLOSED);
    ck_assert_int_eq(task.parks, 3);
    nest_leave(&task);
    end_several(queues, 2);
}
END_TEST

/* All waits of a task on queues, each of which would have to wait. */
static void wait_in_all_ways(mtask_queue *queues, int64_t timeout, mtask_status why) {
    mtask_queue_case cases[2];
    long item = 1;
    size_t moved = 9, fired = 9;
    bool late = why == MTASK_TIMEOUT; /* which has other names here */
    mtask_queue *empty = &queues[0], *full = &queues[1];
    ck_assert_status(mtask_queue_get(empty, &item, timeout), late ? MTASK_EMPTY : why);
    ck_assert_status(mtask_queue_get_many(empty, &item, 1, &moved, timeout),
                     late ? MTASK_EMPTY : why);
    ck_assert_uint_eq(moved, 0);
    moved = 9;
    ck_assert_status(mtask_queue_put(full, &item, timeout), late ? MTASK_FULL : why);
    ck_assert_status(mtask_queue_put_many(full, &item, 1, &moved, timeout),
                     late ? MTASK_FULL : why);
    ck_assert_uint_eq(moved, 0);
    ck_assert_status(mtask_queue_join(full, timeout), why);
    cases[0] = make_case(empty, MTASK_GET, &item);
    cases[1] = make_case(full, MTASK_PUT, &item);
    ck_assert_status(mtask_queue_select(cases, 2, &fired, timeout), why);
    ck_assert_uint_eq(fired, 2);
}

/* Nobody is left in the parking table or in a list of the queues, and these are as they were. */
static void check_nobody_waits(mtask_queue *queues, int kind) {
    ck_assert_uint_eq(mtask_queue_size(&queues[0]), 0);
    ck_assert_uint_eq(mtask_queue_size(&queues[1]), 1);
    ck_assert_int_eq(get_long(&queues[1]), 3);
    put_long(&queues[0], kind);
    ck_assert_status(mtask_queue_task_done(&queues[1]), MTASK_OK);
    end_several(queues, 2);
}

static void end_all_waits(mtask_status why, int64_t timeout) {
    for (int kind = 0; kind < KINDS; kind++) {
        mtask_queue queues[2];
        nest task;
        open_longs(&queues[0], (mtask_queue_kind)kind, 1);
        open_longs(&queues[1], (mtask_queue_kind)kind, 1);
        put_long(&queues[1], 3);
        nest_enter(&task, NULL, NULL, why);
        wait_in_all_ways(queues, timeout, why);
        ck_assert_int_eq(task.parks, 6);
        wait_in_all_ways(queues, MTASK_NOWAIT, MTASK_TIMEOUT);
        ck_assert_int_eq(task.parks, 6); /* who does not wait is not parked */
        nest_leave(&task);
        check_nobody_waits(queues, kind);
    }
}

START_TEST(a_cancelled_task_is_told_so) {
    end_all_waits(MTASK_CANCELED, MTASK_FOREVER);
    end_all_waits(MTASK_CANCELED, MTASK_SEC(60));
}
END_TEST

START_TEST(a_task_whose_time_is_up_is_told_so) {
    end_all_waits(MTASK_TIMEOUT, MTASK_SEC(60));
}
END_TEST

START_TEST(a_task_whose_loop_cannot_wait_is_told_so) {
    end_all_waits(MTASK_SYSTEM, MTASK_FOREVER);
}
END_TEST

START_TEST(waiting_on_a_schedulers_own_stack_is_a_dead_lock) {
    for (int kind = 0; kind < KINDS; kind++) {
        mtask__parker parker = {NULL, NULL, NULL};
        mtask__task task, *last;
        mtask_queue queues[2];
        open_longs(&queues[0], (mtask_queue_kind)kind, 1);
        open_longs(&queues[1], (mtask_queue_kind)kind, 1);
        mtask__task_init(&task, &parker);
        last = mtask__task_switch(&task);
        put_long(&queues[1], 3); /* what need not wait works there */
        wait_in_all_ways(queues, MTASK_FOREVER, MTASK_DEADLOCK);
        wait_in_all_ways(queues, MTASK_SEC(60), MTASK_DEADLOCK);
        wait_in_all_ways(queues, MTASK_NOWAIT, MTASK_TIMEOUT);
        ck_assert_ptr_eq(mtask__task_switch(last), &task);
        check_nobody_waits(queues, kind);
    }
}
END_TEST

/* A waker takes the task out just when it is to be cancelled: it is woken, then. Should it leave
   without taking anything, the other one who waits must hear of the item. */
static void put_and_let_others_take(nest *self) {
    long item = 1;
    put_long(self->queue, 55);
    (void)mtask_queue_get(self->queue, &item, MTASK_NOWAIT);
    self->meanwhile = NULL; /* and in the next wait nothing happens */
}

START_TEST(a_task_that_is_woken_in_vain_waits_again) {
    for (int kind = 0; kind < KINDS; kind++) {
        mtask_queue queue;
        nest task;
        long item = -1;
        open_longs(&queue, (mtask_queue_kind)kind, 1);
        nest_enter(&task, &queue, put_and_let_others_take, MTASK_CANCELED);
        ck_assert_status(mtask_queue_get(&queue, &item, MTASK_FOREVER), MTASK_CANCELED);
        ck_assert_int_eq(task.parks, 2);
        nest_leave(&task);
        ck_assert_status(mtask_queue_deinit(&queue), MTASK_OK);
    }
}
END_TEST

/* ---- tasks that give up among threads that wait ---- */

typedef struct fickle {
    mtask_queue queue;
    long each;
    long got;
    bool select;
} fickle;

/* As a loop would, looks for a moment whether somebody wakes the task. */
static void dawdle_meanwhile(nest *self) {
    for (int i = 0; i < 20 && mtask_word_load(&self->posted) == 0; i++)
        sched_yield();
}

/* A task that is cancelled again and again, and takes what it gets. */
static void get_fickly(testing_member *self) {
    fickle *on = (fickle *)self->arg;
    nest task;
    mtask_status status = MTASK_OK;
    nest_enter(&task, &on->queue, dawdle_meanwhile, MTASK_CANCELED);
    while (status != MTASK_CLOSED) {
        long item = 0;
        mtask_queue_case one = make_case(&on->queue, MTASK_GET, &item);
        status = on->select ? mtask_queue_select(&one, 1, NULL, MTASK_FOREVER)
                            : mtask_queue_get(&on->queue, &item, MTASK_FOREVER);
        if (status != MTASK_CLOSED && status != MTASK_OK)
            ck_assert_status(status, MTASK_CANCELED);
        self->number += item;
        __atomic_fetch_add(&on->got, item != 0, __ATOMIC_SEQ_CST);
    }
    nest_leave(&task);
}

static void get_steadily(testing_member *self) {
    fickle *on = (fickle *)self->arg;
    long item;
    while (mtask_queue_get(&on->queue, &item, MTASK_FOREVER) == MTASK_OK) {
        self->number += item;
        __atomic_fetch_add(&on->got, 1, __ATOMIC_SEQ_CST);
    }
}

/* After some items the putter waits until somebody has it: a wake-up swallowed by a cancelled
   task leaves the item where it is, and this test hanging. */
static void run_fickle(mtask_queue_kind kind, bool select) {
    fickle on;
    testing_crowd crowd;
    long sum = 0, put = 0;
    int64_t start = mtask_now();
    on.each = testing_scale(6000);
    on.got = 0;
    on.select = select;
    open_longs(&on.queue, kind, 2);
    testing_crowd_start(&crowd, 2, get_fickly, &on);
    (void)testing_crowd_add(&crowd, get_steadily, &on);
    while (put < on.each && testing_has_time(start)) {
        put++;
        ck_assert_status(mtask_queue_put(&on.queue, &put, MTASK_FOREVER), MTASK_OK);
        while (put % 3 == 0 && __atomic_load_n(&on.got, __ATOMIC_SEQ_CST) < put)
            sched_yield();
    }
    ck_assert_status(mtask_queue_close(&on.queue), MTASK_OK);
    testing_crowd_join(&crowd);
    for (int i = 0; i < 3; i++)
        sum += crowd.members[i].number;
    ck_assert_int_eq(sum, put * (put + 1) / 2);
    ck_assert_int_eq(on.got, put);
    ck_assert_status(mtask_queue_deinit(&on.queue), MTASK_OK);
}

START_TEST(cancelled_tasks_swallow_no_wake_up) {
    for (int kind = 0; kind < KINDS; kind++) {
        run_fickle((mtask_queue_kind)kind, false);
        run_fickle((mtask_queue_kind)kind, true);
    }
}
END_TEST

#ifdef __linux__
# define EPOLL_TESTS , epoll_tells_of_items_by_level_and_by_edge
#else
# define EPOLL_TESTS
#endif

TESTING_MAIN("queue_select", select_gets_from_the_queue_that_has_something,
             select_puts_into_the_queue_that_has_room, select_does_puts_and_gets,
             select_of_one_queue_is_a_put_or_get, a_queue_may_be_in_several_cases,
             cases_may_hold_items_of_different_sizes,
             select_takes_its_time_and_then_nothing_has_happened, select_of_nothing_just_waits,
             a_case_without_queue_never_happens, select_refuses_what_makes_no_sense,
             a_closed_queue_is_ready, each_ready_case_is_chosen_a_fair_share_of_times,
             a_put_wakes_a_select_that_waits_for_items, room_wakes_a_select_that_wants_to_put,
             close_wakes_all_selects, a_select_goes_on_after_signals_and_uses_no_cpu,
             selects_that_name_a_queue_twice_take_one_item_each,
             nobody_sleeps_beside_what_he_waits_for,
             a_select_passes_on_what_it_heard_and_did_not_take,
             exactly_one_case_happens_however_many_compete,
             the_descriptor_is_readable_while_there_are_items,
             a_descriptor_made_late_tells_of_what_is_there, every_way_to_put_ends_a_poll,
             however_it_is_drained_the_descriptor_becomes_quiet, puts_never_wait_for_who_watches,
             a_poller_hears_of_every_item, a_poller_of_edges_hears_of_every_item,
             a_poller_and_a_putter_take_turns, a_getter_parks_its_task_and_not_its_thread,
             a_putter_parks_its_task_and_not_its_thread,
             joins_and_selects_park_their_task_and_not_their_thread, a_cancelled_task_is_told_so,
             a_task_whose_time_is_up_is_told_so, a_task_whose_loop_cannot_wait_is_told_so,
             waiting_on_a_schedulers_own_stack_is_a_dead_lock,
             a_task_that_is_woken_in_vain_waits_again,
             cancelled_tasks_swallow_no_wake_up EPOLL_TESTS)
