/* test_mtask_timer.c - timers: when they fire, in which order, and what cancelling them tells */
#include "testing.h"

#include <string.h>

/* ---- helpers ---- */

static mtask_word fired;       /* how many timers fired */
static mtask_event began, end; /* hold_the_thread has begun; it may end */

static void *count_fired(void *arg) {
    mtask_word_add(&fired, 1);
    return arg;
}

static void *hold_the_thread(void *arg) {
    mtask_event_set(&began);
    ck_assert_status(mtask_event_wait(&end, MTASK_FOREVER), MTASK_OK);
    return count_fired(arg);
}

/* Keeps the timer thread busy, so that nothing fires until let_go. */
static void hold(mtask_timer *holder) {
    memset(holder, 0, sizeof *holder);
    mtask_event_clear(&began);
    mtask_event_clear(&end);
    ck_assert_status(mtask_timer_start(holder, 0, hold_the_thread, NULL), MTASK_OK);
    ck_assert_status(mtask_event_wait(&began, MTASK_FOREVER), MTASK_OK);
}

static void let_go(mtask_timer *holder) {
    mtask_event_set(&end);
    ck_assert_status(mtask_timer_cancel(holder, MTASK_FOREVER), MTASK_DONE);
}

/* Returns when all timers have fired. */
static void await_all(void) {
    ck_assert_status(mtask_thread_join_all(MTASK_FOREVER), MTASK_OK);
}

/* ---- firing ---- */

static int64_t fired_at;

static void *note_time(void *arg) {
    fired_at = mtask_now();
    return count_fired(arg);
}

START_TEST(a_timer_fires_once_and_never_early) {
    static const int64_t delays[] = {0, 1, MTASK_US(300), MTASK_MS(1), MTASK_MS(12)};
    mtask_timer timer = {0};
    for (size_t i = 0; i < sizeof delays / sizeof delays[0]; i++) {
        int64_t before = mtask_now();
        ck_assert_status(mtask_timer_start(&timer, delays[i], note_time, NULL), MTASK_OK);
        await_all();
        ck_assert_uint_eq(mtask_word_load(&fired), i + 1);
        ck_assert_int_ge(fired_at - before, delays[i]);
    }
}
END_TEST

static void *got;

static void *take_arg(void *arg) {
    got = arg;
    return mtask_fail(MTASK_BROKEN, "nobody will read this");
}

START_TEST(a_timer_passes_its_argument_and_drops_the_result) {
    static mtask_timer timer;
    int value = 0;
    ck_assert_status(mtask_timer_start(&timer, 0, take_arg, &value), MTASK_OK);
    await_all();
    ck_assert_ptr_eq(got, &value);
    ck_assert_status(mtask_timer_cancel(&timer, MTASK_NOWAIT), MTASK_DONE);
    ck_assert_status(mtask_timer_start(&timer, 0, count_fired, NULL), MTASK_OK); /* it goes on */
    await_all();
    ck_assert_uint_eq(mtask_word_load(&fired), 1);
}
END_TEST

START_TEST(start_refuses_bad_arguments_and_a_pending_timer) {
    static mtask_timer timer;
    ck_assert_status(mtask_timer_start(&timer, 0, NULL, NULL), MTASK_INVALID);
    ck_assert_status(mtask_timer_start(&timer, -1, count_fired, NULL), MTASK_INVALID);
    ck_assert_uint_eq(mtask_thread_active_count(), 1);
    ck_assert_status(mtask_timer_start(&timer, MTASK_SEC(3600), count_fired, NULL), MTASK_OK);
    ck_assert_status(mtask_timer_start(&timer, 0, count_fired, NULL), MTASK_INVALID);
    ck_assert(mtask_timer_is_pending(&timer));
    ck_assert_status(mtask_timer_cancel(&timer, MTASK_NOWAIT), MTASK_OK);
    ck_assert_uint_eq(mtask_word_load(&fired), 0);
}
END_TEST

START_TEST(is_pending_from_start_until_it_runs) {
    static mtask_timer timer;
    ck_assert(!mtask_timer_is_pending(&timer));
    hold(&timer); /* it runs now */
    ck_assert(!mtask_timer_is_pending(&timer));
    let_go(&timer);
    ck_assert(!mtask_timer_is_pending(&timer));
    ck_assert_status(mtask_timer_start(&timer, MTASK_SEC(3600), count_fired, NULL), MTASK_OK);
    ck_assert(mtask_timer_is_pending(&timer));
    ck_assert_status(mtask_timer_cancel(&timer, MTASK_NOWAIT), MTASK_OK);
    ck_assert(!mtask_timer_is_pending(&timer));
}
END_TEST

START_TEST(a_timer_that_fires_never_can_be_cancelled) {
    static mtask_timer timer, later;
    ck_assert_status(mtask_timer_start(&timer, MTASK_FOREVER, count_fired, NULL), MTASK_OK);
    ck_assert_status(mtask_timer_start(&later, MTASK_FOREVER - 1, count_fired, NULL), MTASK_OK);
    ck_assert_status(mtask_thread_join_all(MTASK_MS(3)), MTASK_TIMEOUT);
    ck_assert(mtask_timer_is_pending(&timer) && mtask_timer_is_pending(&later));
    ck_assert_status(mtask_timer_cancel(&timer, MTASK_NOWAIT), MTASK_OK);
    ck_assert_status(mtask_timer_cancel(&later, MTASK_NOWAIT), MTASK_OK);
    await_all();
    ck_assert_uint_eq(mtask_word_load(&fired), 0);
}
END_TEST

START_TEST(an_earlier_timer_overtakes_the_one_waited_for) {
    static mtask_timer late, early;
    ck_assert_status(mtask_timer_start(&late, MTASK_SEC(3600), count_fired, NULL), MTASK_OK);
    ck_assert_status(mtask_sleep(MTASK_MS(3)), MTASK_OK); /* its thread waits for `late` now */
    ck_assert_status(mtask_timer_start(&early, MTASK_MS(1), hold_the_thread, NULL), MTASK_OK);
    ck_assert_status(mtask_event_wait(&began, MTASK_FOREVER), MTASK_OK);
    let_go(&early);
    ck_assert_status(mtask_timer_cancel(&late, MTASK_NOWAIT), MTASK_OK);
    ck_assert_uint_eq(mtask_word_load(&fired), 1);
}
END_TEST

static mtask_thread_info seen_inside;

static void *look_around(void *arg) {
    seen_inside = mtask_thread_current();
    return arg;
}

START_TEST(all_timers_share_one_daemon_thread) {
    static mtask_timer timers[2];
    uint64_t first;
    ck_assert_uint_eq(mtask_thread_active_count(), 1); /* no thread before the first timer */
    ck_assert_status(mtask_timer_start(&timers[0], 0, look_around, NULL), MTASK_OK);
    await_all();
    first = seen_inside.id;
    ck_assert(seen_inside.daemon && seen_inside.alive && !seen_inside.main);
    ck_assert_status(mtask_timer_start(&timers[1], 0, look_around, NULL), MTASK_OK);
    await_all();
    ck_assert_uint_eq(seen_inside.id, first);
    ck_assert_uint_eq(mtask_thread_active_count(), 2);
}
END_TEST

/* ---- many ---- */

enum { MANY = 1000 };

typedef struct numbered {
    mtask_timer timer;
    int64_t due_min; /* its deadline lies between these two: before and after the start */
    int64_t due_max;
    int64_t fired_at;
    int fired; /* how often */
} numbered;

static numbered many[MANY];
static numbered *order[2 * MANY]; /* in which they fired; only the timer thread writes */
static size_t order_length;
static uint64_t first_thread;

static void *note_order(void *arg) {
    numbered *self = (numbered *)arg;
    self->fired++;
    self->fired_at = mtask_now();
    testing_check(order_length < 2 * MANY);
    order[order_length++] = self;
    if (first_thread == 0)
        first_thread = mtask_task_id();
    testing_check(mtask_task_id() == first_thread);
    return NULL;
}

/* Starts many[i] with a delay of its own. */
static void start_numbered(size_t i, int64_t delay) {
    many[i].due_min = mtask_now() + delay;
    ck_assert_status(mtask_timer_start(&many[i].timer, delay, note_order, &many[i]), MTASK_OK);
    many[i].due_max = mtask_now() + delay;
}

START_TEST(a_thousand_timers_fire_once_each_in_order_on_one_thread) {
    testing_random random = testing_random_make(testing_seed(), 0);
    mtask_timer holder;
    hold(&holder);
    for (size_t i = 0; i < MANY; i++)
        start_numbered(i, (int64_t)testing_below(&random, MTASK_MS(40)));
    ck_assert_uint_eq(mtask_thread_active_count(), 2);
    ck_assert_uint_eq(order_length, 0);
    let_go(&holder);
    await_all();
    ck_assert_uint_eq(order_length, MANY);
    for (size_t i = 0; i < MANY; i++) {
        ck_assert_int_eq(many[i].fired, 1);
        ck_assert_int_ge(many[i].fired_at, many[i].due_min);
        if (i > 0)
            ck_assert_int_le(order[i - 1]->due_min, order[i]->due_max);
    }
}
END_TEST

START_TEST(timers_taken_out_of_the_middle_leave_the_others_in_order) {
    testing_random random = testing_random_make(testing_seed(), 1);
    size_t left = MANY;
    mtask_timer holder;
    hold(&holder);
    for (size_t i = 0; i < MANY; i++)
        start_numbered(i, (int64_t)testing_below(&random, MTASK_MS(10)));
    for (size_t i = 0; i < 2 * MANY; i++) {
        size_t n = testing_below(&random, MANY);
        mtask_status status = mtask_timer_cancel(&many[n].timer, MTASK_NOWAIT);
        left -= status == MTASK_OK;
        if (status == MTASK_DONE && testing_below(&random, 3) == 0) {
            start_numbered(n, (int64_t)testing_below(&random, MTASK_MS(10)));
            left++;
        }
    }
    let_go(&holder);
    await_all();
    ck_assert_uint_eq(order_length, left);
    for (size_t i = 1; i < left; i++)
        testing_check(order[i - 1]->due_min <= order[i]->due_max);
    for (size_t i = 0; i < MANY; i++)
        testing_check(many[i].fired <= 1);
}
END_TEST

/* ---- cancelling ---- */

START_TEST(cancel_before_it_fires_is_ok_and_it_never_runs) {
    static mtask_timer timer;
    mtask_timer holder;
    hold(&holder);
    ck_assert_status(mtask_timer_start(&timer, 0, count_fired, NULL), MTASK_OK);
    ck_assert_status(mtask_timer_cancel(&timer, MTASK_FOREVER), MTASK_OK);
    ck_assert_status(mtask_timer_cancel(&timer, MTASK_FOREVER), MTASK_DONE); /* nothing to come */
    let_go(&holder);
    await_all();
    ck_assert_uint_eq(mtask_word_load(&fired), 1); /* the holder */
}
END_TEST

START_TEST(cancel_of_what_has_run_or_never_started_is_done) {
    static mtask_timer timer;
    ck_assert_status(mtask_timer_cancel(&timer, MTASK_NOWAIT), MTASK_DONE);
    ck_assert_status(mtask_timer_cancel(&timer, MTASK_FOREVER), MTASK_DONE);
    ck_assert_status(mtask_timer_start(&timer, 0, count_fired, NULL), MTASK_OK);
    await_all();
    ck_assert_status(mtask_timer_cancel(&timer, MTASK_NOWAIT), MTASK_DONE);
    ck_assert_status(mtask_timer_cancel(&timer, MTASK_FOREVER), MTASK_DONE);
}
END_TEST

START_TEST(cancel_of_a_running_timer_waits_as_long_as_asked) {
    mtask_timer holder;
    int64_t before;
    hold(&holder);
    ck_assert_status(mtask_timer_cancel(&holder, MTASK_NOWAIT), MTASK_TIMEOUT);
    before = mtask_now();
    ck_assert_status(mtask_timer_cancel(&holder, MTASK_MS(8)), MTASK_TIMEOUT);
    ck_assert_int_ge(mtask_now() - before, MTASK_MS(8));
    ck_assert_uint_eq(mtask_word_load(&fired), 0);
    let_go(&holder); /* cancels it, for ever, and is told DONE */
    ck_assert_uint_eq(mtask_word_load(&fired), 1);
}
END_TEST

START_TEST(cancel_refuses_a_negative_timeout) {
    static mtask_timer timer;
    ck_assert_status(mtask_timer_start(&timer, MTASK_SEC(3600), count_fired, NULL), MTASK_OK);
    ck_assert_status(mtask_timer_cancel(&timer, -1), MTASK_INVALID);
    ck_assert(mtask_timer_is_pending(&timer));
    ck_assert_status(mtask_timer_cancel(&timer, MTASK_NOWAIT), MTASK_OK);
}
END_TEST

static void *cancel_myself(void *arg) {
    mtask_timer *self = (mtask_timer *)arg;
    ck_assert_status(mtask_timer_cancel(self, MTASK_FOREVER), MTASK_DEADLOCK);
    ck_assert_status(mtask_timer_cancel(self, MTASK_NOWAIT), MTASK_DEADLOCK);
    return count_fired(NULL);
}

START_TEST(cancelling_from_its_own_function_is_refused) {
    static mtask_timer timer;
    ck_assert_status(mtask_timer_start(&timer, 0, cancel_myself, &timer), MTASK_OK);
    await_all();
    ck_assert_uint_eq(mtask_word_load(&fired), 1);
    ck_assert_status(mtask_timer_cancel(&timer, MTASK_NOWAIT), MTASK_DONE);
}
END_TEST

static void *restart_and_cancel(void *arg) {
    mtask_timer *self = (mtask_timer *)arg;
    ck_assert_status(mtask_timer_start(self, MTASK_SEC(3600), restart_and_cancel, arg), MTASK_OK);
    ck_assert_status(mtask_timer_cancel(self, MTASK_FOREVER), MTASK_OK);
    testing_check(!mtask_timer_is_pending(self));
    ck_assert_status(mtask_timer_cancel(self, MTASK_FOREVER), MTASK_DEADLOCK);
    return count_fired(NULL);
}

START_TEST(a_timer_that_started_itself_again_can_take_that_back) {
    static mtask_timer timer;
    ck_assert_status(mtask_timer_start(&timer, 0, restart_and_cancel, &timer), MTASK_OK);
    await_all();
    ck_assert_uint_eq(mtask_word_load(&fired), 1);
}
END_TEST

static mtask_timer sibling;

static void *cancel_sibling(void *arg) {
    ck_assert_status(mtask_timer_cancel(&sibling, MTASK_FOREVER), MTASK_OK);
    return count_fired(arg);
}

START_TEST(a_timer_can_cancel_another) {
    static mtask_timer timer;
    ck_assert_status(mtask_timer_start(&sibling, MTASK_SEC(3600), count_fired, NULL), MTASK_OK);
    ck_assert_status(mtask_timer_start(&timer, 0, cancel_sibling, NULL), MTASK_OK);
    await_all();
    ck_assert_uint_eq(mtask_word_load(&fired), 1);
}
END_TEST

/* ---- starting again ---- */

static mtask_timer again;
static int runs_left;
static int64_t restarted_at;

static void *start_again(void *arg) {
    if (mtask_word_load(&fired) > 0)
        testing_check(mtask_now() - restarted_at >= MTASK_MS(1));
    count_fired(NULL);
    restarted_at = mtask_now();
    if (--runs_left > 0) {
        ck_assert_status(mtask_timer_start(&again, MTASK_MS(1), start_again, arg), MTASK_OK);
        testing_check(mtask_timer_is_pending(&again));
    }
    return NULL;
}

START_TEST(a_timer_can_be_started_again_from_its_own_function) {
    runs_left = 6;
    ck_assert_status(mtask_timer_start(&again, 0, start_again, NULL), MTASK_OK);
    await_all();
    ck_assert_uint_eq(mtask_word_load(&fired), 6);
    ck_assert_status(mtask_timer_cancel(&again, MTASK_NOWAIT), MTASK_DONE);
}
END_TEST

static void *periodic(void *arg) {
    count_fired(NULL);
    ck_assert_status(mtask_timer_start((mtask_timer *)arg, MTASK_US(20), periodic, arg), MTASK_OK);
    return NULL;
}

START_TEST(a_timer_that_starts_itself_again_can_be_stopped) {
    for (int i = 0; i < 100; i++) {
        mtask_timer *timer = (mtask_timer *)calloc(1, sizeof *timer);
        mtask_status status;
        mtask_word count;
        ck_assert_ptr_nonnull(timer);
        ck_assert_status(mtask_timer_start(timer, 0, periodic, timer), MTASK_OK);
        ck_assert_status(mtask_sleep(MTASK_US(10 * i)), MTASK_OK);
        status = mtask_timer_cancel(timer, MTASK_FOREVER);
        ck_assert(status == MTASK_OK || status == MTASK_DONE);
        count = mtask_word_load(&fired);
        ck_assert(!mtask_timer_is_pending(timer)); /* otherwise it must not be freed */
        free(timer);
        ck_assert_status(mtask_thread_join_all(MTASK_FOREVER), MTASK_OK);
        ck_assert_uint_eq(mtask_word_load(&fired), count);
    }
}
END_TEST

static void *hold_then_restart(void *arg) {
    mtask_event_set(&began);
    ck_assert_status(mtask_event_wait(&end, MTASK_FOREVER), MTASK_OK);
    ck_assert_status(mtask_timer_start(&again, MTASK_SEC(3600), count_fired, arg), MTASK_OK);
    return NULL;
}

static void *cancel_again(void *arg) {
    mtask_status status = mtask_timer_cancel(&again, MTASK_FOREVER);
    testing_check(status == MTASK_OK || status == MTASK_DONE);
    testing_check(!mtask_timer_is_pending(&again)); /* otherwise it must not be freed */
    return arg;
}

START_TEST(cancel_stops_a_timer_that_starts_itself_again_meanwhile) {
    mtask_thread canceller = {0};
    ck_assert_status(mtask_timer_start(&again, 0, hold_then_restart, NULL), MTASK_OK);
    ck_assert_status(mtask_event_wait(&began, MTASK_FOREVER), MTASK_OK);
    ck_assert_status(mtask_thread_start(&canceller, cancel_again, NULL), MTASK_OK);
    ck_assert_status(mtask_sleep(MTASK_MS(5)), MTASK_OK); /* it waits for the function's end */
    mtask_event_set(&end);
    ck_assert_status(mtask_thread_join(&canceller, NULL, MTASK_FOREVER), MTASK_OK);
    await_all();
    ck_assert_uint_eq(mtask_word_load(&fired), 0);
}
END_TEST

static void *restart_then_hold(void *arg) {
    if (mtask_word_add(&fired, 1) == 0) {
        ck_assert_status(mtask_timer_start(&again, 0, restart_then_hold, arg), MTASK_OK);
        mtask_event_set(&began);
        ck_assert_status(mtask_event_wait(&end, MTASK_FOREVER), MTASK_OK);
    }
    return NULL;
}

START_TEST(a_timer_that_started_itself_again_fires_after_its_own_end) {
    ck_assert_status(mtask_timer_start(&again, 0, restart_then_hold, NULL), MTASK_OK);
    ck_assert_status(mtask_event_wait(&began, MTASK_FOREVER), MTASK_OK);
    ck_assert_status(mtask_sleep(MTASK_MS(3)), MTASK_OK);
    ck_assert_uint_eq(mtask_word_load(&fired), 1);
    mtask_event_set(&end);
    await_all();
    ck_assert_uint_eq(mtask_word_load(&fired), 2);
}
END_TEST

/* ---- all at once ---- */

enum { RACERS = 16 };

typedef struct racer {
    mtask_timer timer;
    mtask_word ran;
} racer;

static uint64_t race_seed;

static void *count_own_run(void *arg) {
    mtask_word_add(&((racer *)arg)->ran, 1);
    return NULL;
}

/* Starts one timer and cancels it about when it fires: it ran, or it was cancelled, never both. */
static void race_one(testing_random *random) {
    racer *self = (racer *)calloc(1, sizeof *self);
    int64_t delay = (int64_t)testing_below(random, MTASK_US(120));
    mtask_status status;
    testing_check(self != NULL);
    ck_assert_status(mtask_timer_start(&self->timer, delay, count_own_run, self), MTASK_OK);
    if (testing_below(random, 2))
        ck_assert_status(mtask_sleep((int64_t)testing_below(random, MTASK_US(100))), MTASK_OK);
    status = mtask_timer_cancel(&self->timer, testing_below(random, 2) ? MTASK_FOREVER : 0);
    if (status == MTASK_TIMEOUT) /* it runs now */
        testing_check(mtask_timer_cancel(&self->timer, MTASK_FOREVER) == MTASK_DONE);
    else
        testing_check(status == MTASK_OK || status == MTASK_DONE);
    testing_check(mtask_word_load(&self->ran) == (status == MTASK_OK ? 0 : 1));
    testing_check(!mtask_timer_is_pending(&self->timer));
    free(self); /* at once: the timer thread must not look at it any more */
}

static void *race_many(void *arg) {
    testing_random random = testing_random_make(race_seed, (unsigned)(uintptr_t)arg);
    for (long i = testing_scale(3000); i > 0; i--)
        race_one(&random);
    return NULL;
}

START_TEST(a_timer_either_ran_or_was_cancelled) {
    mtask_thread threads[3] = {0};
    race_seed = testing_seed();
    for (uintptr_t i = 0; i < 3; i++)
        ck_assert_status(mtask_thread_start(&threads[i], race_many, (void *)i), MTASK_OK);
    for (int i = 0; i < 3; i++)
        ck_assert_status(mtask_thread_join(&threads[i], NULL, MTASK_FOREVER), MTASK_OK);
    ck_assert_status(mtask_thread_join_all(MTASK_FOREVER), MTASK_OK);
}
END_TEST

static racer contested[RACERS];
static mtask_word cancelled[RACERS];
static mtask_barrier cancel_round;

static void *cancel_contested(void *arg) {
    testing_random random = testing_random_make(race_seed, (unsigned)(uintptr_t)arg);
    for (long round = testing_scale(150); round > 0; round--) {
        ck_assert_status(mtask_barrier_wait(&cancel_round, NULL, MTASK_FOREVER), MTASK_OK);
        for (int i = 0; i < 2 * RACERS; i++) {
            size_t n = testing_below(&random, RACERS);
            mtask_status status = mtask_timer_cancel(&contested[n].timer, MTASK_NOWAIT);
            testing_check(status == MTASK_OK || status == MTASK_DONE || status == MTASK_TIMEOUT);
            if (status == MTASK_OK)
                mtask_word_add(&cancelled[n], 1);
        }
        ck_assert_status(mtask_barrier_wait(&cancel_round, NULL, MTASK_FOREVER), MTASK_OK);
    }
    return NULL;
}

START_TEST(of_several_cancellers_at_most_one_succeeds) {
    mtask_thread threads[3] = {0};
    testing_random random = testing_random_make(race_seed = testing_seed(), 9);
    ck_assert_status(mtask_barrier_init(&cancel_round, 4, NULL, NULL, 0), MTASK_OK);
    for (uintptr_t i = 0; i < 3; i++)
        ck_assert_status(mtask_thread_start(&threads[i], cancel_contested, (void *)i), MTASK_OK);
    for (long round = testing_scale(150); round > 0; round--) {
        memset(contested, 0, sizeof contested);
        memset(cancelled, 0, sizeof cancelled);
        for (int i = 0; i < RACERS; i++)
            ck_assert_status(mtask_timer_start(&contested[i].timer,
                                               (int64_t)testing_below(&random, MTASK_US(200)),
                                               count_own_run, &contested[i]),
                             MTASK_OK);
        ck_assert_status(mtask_barrier_wait(&cancel_round, NULL, MTASK_FOREVER), MTASK_OK);
        ck_assert_status(mtask_barrier_wait(&cancel_round, NULL, MTASK_FOREVER), MTASK_OK);
        for (int i = 0; i < RACERS; i++) {
            mtask_word was_cancelled = mtask_word_load(&cancelled[i]);
            mtask_status status = mtask_timer_cancel(&contested[i].timer, MTASK_FOREVER);
            testing_check(was_cancelled <= 1 && (status == MTASK_OK || status == MTASK_DONE));
            was_cancelled += status == MTASK_OK;
            testing_check(mtask_word_load(&contested[i].ran) + was_cancelled == 1);
        }
    }
    for (int i = 0; i < 3; i++)
        ck_assert_status(mtask_thread_join(&threads[i], NULL, MTASK_FOREVER), MTASK_OK);
}
END_TEST

TESTING_MAIN("timer", a_timer_fires_once_and_never_early,
             a_timer_passes_its_argument_and_drops_the_result,
             start_refuses_bad_arguments_and_a_pending_timer, is_pending_from_start_until_it_runs,
             a_timer_that_fires_never_can_be_cancelled,
             an_earlier_timer_overtakes_the_one_waited_for, all_timers_share_one_daemon_thread,
             a_thousand_timers_fire_once_each_in_order_on_one_thread,
             timers_taken_out_of_the_middle_leave_the_others_in_order,
             cancel_before_it_fires_is_ok_and_it_never_runs,
             cancel_of_what_has_run_or_never_started_is_done,
             cancel_of_a_running_timer_waits_as_long_as_asked, cancel_refuses_a_negative_timeout,
             cancelling_from_its_own_function_is_refused,
             a_timer_that_started_itself_again_can_take_that_back, a_timer_can_cancel_another,
             a_timer_can_be_started_again_from_its_own_function,
             a_timer_that_starts_itself_again_can_be_stopped,
             cancel_stops_a_timer_that_starts_itself_again_meanwhile,
             a_timer_that_started_itself_again_fires_after_its_own_end,
             a_timer_either_ran_or_was_cancelled, of_several_cancellers_at_most_one_succeeds)
