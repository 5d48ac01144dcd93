/* test_mtask_future.c - futures: states, results, cancelling, callbacks, waiting for many */
#include "testing.h"

#include <string.h>

/* ---- helpers ---- */

static mtask_future *new_future(void) {
    mtask_future *future = NULL;
    ck_assert_status(mtask_future_create(&future, NULL), MTASK_OK);
    ck_assert_ptr_nonnull(future);
    return future;
}

/* What a future says of itself. */
static void check_state(const mtask_future *future, bool done, bool running, bool canceled) {
    ck_assert(mtask_future_done(future) == done);
    ck_assert(mtask_future_running(future) == running);
    ck_assert(mtask_future_canceled(future) == canceled);
}

static mtask_word freed_count;
static void *freed_value;

static void count_free(void *value) {
    freed_value = value;
    mtask_word_add(&freed_count, 1);
}

static int some_value;

/* ---- states ---- */

START_TEST(a_new_future_is_pending) {
    mtask_future *future = new_future();
    check_state(future, false, false, false);
    mtask_future_release(future);
}
END_TEST

START_TEST(begin_makes_it_running_once) {
    mtask_future *future = new_future();
    ck_assert_status(mtask_future_begin(future), MTASK_OK);
    check_state(future, false, true, false);
    ck_assert_status(mtask_future_begin(future), MTASK_INVALID);
    check_state(future, false, true, false);
    ck_assert_status(mtask_future_set(future, NULL), MTASK_OK);
    check_state(future, true, false, false);
    ck_assert_status(mtask_future_begin(future), MTASK_INVALID);
    check_state(future, true, false, false);
    mtask_future_release(future);
}
END_TEST

START_TEST(a_promise_may_be_kept_without_begin) {
    mtask_future *future = new_future();
    mtask_outcome outcome;
    memset(&outcome, 0x5a, sizeof outcome);
    ck_assert_status(mtask_future_set(future, &some_value), MTASK_OK);
    check_state(future, true, false, false);
    ck_assert_status(mtask_future_get(future, &outcome, MTASK_NOWAIT), MTASK_OK);
    ck_assert_status(outcome.status, MTASK_OK);
    ck_assert_ptr_eq(outcome.value, &some_value);
    ck_assert_str_eq(outcome.text, "");
    mtask_future_release(future);
}
END_TEST

START_TEST(cancel_works_only_before_it_runs) {
    mtask_future *pending = new_future(), *running = new_future(), *finished = new_future();
    ck_assert_status(mtask_future_cancel(pending), MTASK_OK);
    check_state(pending, true, false, true);
    ck_assert_status(mtask_future_cancel(pending), MTASK_OK); /* it is cancelled: as asked */
    ck_assert_status(mtask_future_begin(running), MTASK_OK);
    ck_assert_status(mtask_future_cancel(running), MTASK_INVALID);
    check_state(running, false, true, false);
    ck_assert_status(mtask_future_set(finished, NULL), MTASK_OK);
    ck_assert_status(mtask_future_cancel(finished), MTASK_INVALID);
    check_state(finished, true, false, false);
    mtask_future_release(pending);
    mtask_future_release(running);
    mtask_future_release(finished);
}
END_TEST

START_TEST(a_cancelled_future_takes_no_result) {
    mtask_future *future = NULL;
    mtask_outcome outcome;
    memset(&outcome, 0x5a, sizeof outcome);
    ck_assert_status(mtask_future_create(&future, count_free), MTASK_OK);
    ck_assert_status(mtask_future_cancel(future), MTASK_OK);
    ck_assert_status(mtask_future_begin(future), MTASK_CANCELED);
    ck_assert_status(mtask_future_set(future, &some_value), MTASK_CANCELED);
    ck_assert_status(mtask_future_fail(future, MTASK_BROKEN, "late"), MTASK_CANCELED);
    ck_assert_status(mtask_future_get(future, &outcome, MTASK_FOREVER), MTASK_CANCELED);
    ck_assert_status(outcome.status, MTASK_CANCELED);
    ck_assert_ptr_null(outcome.value);
    mtask_future_release(future);
    ck_assert_uint_eq(mtask_word_load(&freed_count), 0); /* the value stayed the caller's */
}
END_TEST

START_TEST(a_finished_future_takes_no_second_result) {
    mtask_future *future = NULL;
    mtask_outcome outcome;
    int second = 0;
    ck_assert_status(mtask_future_create(&future, count_free), MTASK_OK);
    ck_assert_status(mtask_future_set(future, &some_value), MTASK_OK);
    ck_assert_status(mtask_future_set(future, &second), MTASK_INVALID);
    ck_assert_status(mtask_future_fail(future, MTASK_BROKEN, "late"), MTASK_INVALID);
    ck_assert_uint_eq(mtask_word_load(&freed_count), 0);
    ck_assert_status(mtask_future_get(future, &outcome, MTASK_FOREVER), MTASK_OK);
    ck_assert_ptr_eq(outcome.value, &some_value);
    mtask_future_release(future);
    ck_assert_uint_eq(mtask_word_load(&freed_count), 0);
}
END_TEST

START_TEST(a_failed_future_takes_no_second_result) {
    mtask_future *future = new_future();
    mtask_outcome outcome;
    ck_assert_status(mtask_future_fail(future, MTASK_BROKEN, "first"), MTASK_OK);
    ck_assert_status(mtask_future_set(future, &some_value), MTASK_INVALID);
    ck_assert_status(mtask_future_fail(future, MTASK_CLOSED, "second"), MTASK_INVALID);
    ck_assert_status(mtask_future_get(future, &outcome, MTASK_FOREVER), MTASK_FAILED);
    ck_assert_status(outcome.status, MTASK_BROKEN);
    ck_assert_str_eq(outcome.text, "first");
    mtask_future_release(future);
}
END_TEST

/* ---- results ---- */

START_TEST(a_failure_has_a_status_and_a_text) {
    mtask_future *future = new_future();
    mtask_outcome outcome;
    memset(&outcome, 0x5a, sizeof outcome);
    ck_assert_status(mtask_future_fail(future, MTASK_NOT_FOUND, "no %s in %d", "key", 7), MTASK_OK);
    check_state(future, true, false, false);
    for (int i = 0; i < 2; i++) {
        ck_assert_status(mtask_future_get(future, &outcome, MTASK_NOWAIT), MTASK_FAILED);
        ck_assert_status(outcome.status, MTASK_NOT_FOUND);
        ck_assert_str_eq(outcome.text, "no key in 7");
        ck_assert_ptr_null(outcome.value);
    }
    mtask_future_release(future);
}
END_TEST

START_TEST(a_failure_with_ok_and_without_a_text_is_a_failure) {
    mtask_future *future = new_future();
    mtask_outcome outcome;
    ck_assert_status(mtask_future_fail(future, MTASK_OK, NULL), MTASK_OK);
    ck_assert_status(mtask_future_get(future, &outcome, MTASK_NOWAIT), MTASK_FAILED);
    ck_assert_status(outcome.status, MTASK_FAILED);
    ck_assert_str_eq(outcome.text, "");
    mtask_future_release(future);
}
END_TEST

START_TEST(a_long_text_is_cut_to_its_room) {
    mtask_future *future = new_future();
    mtask_outcome outcome;
    char text[2 * MTASK_TEXT_SIZE];
    memset(text, 't', sizeof text);
    text[sizeof text - 1] = 0;
    ck_assert_status(mtask_future_fail(future, MTASK_FULL, "%s", text), MTASK_OK);
    ck_assert_status(mtask_future_get(future, &outcome, MTASK_NOWAIT), MTASK_FAILED);
    ck_assert_uint_eq(strlen(outcome.text), MTASK_TEXT_SIZE - 1);
    ck_assert_mem_eq(outcome.text, text, MTASK_TEXT_SIZE - 1);
    mtask_future_release(future);
}
END_TEST

START_TEST(get_and_wait_stop_when_their_time_is_up) {
    mtask_future *future = new_future();
    int64_t before;
    ck_assert_status(mtask_future_get(future, NULL, MTASK_NOWAIT), MTASK_TIMEOUT);
    ck_assert_status(mtask_future_wait(future, MTASK_NOWAIT), MTASK_TIMEOUT);
    before = mtask_now();
    ck_assert_status(mtask_future_get(future, NULL, MTASK_MS(10)), MTASK_TIMEOUT);
    ck_assert_int_ge(mtask_now() - before, MTASK_MS(10));
    before = mtask_now();
    ck_assert_status(mtask_future_wait(future, MTASK_MS(10)), MTASK_TIMEOUT);
    ck_assert_int_ge(mtask_now() - before, MTASK_MS(10));
    ck_assert_status(mtask_future_set(future, NULL), MTASK_OK);
    ck_assert_status(mtask_future_get(future, NULL, MTASK_NOWAIT), MTASK_OK);
    mtask_future_release(future);
}
END_TEST

START_TEST(get_and_wait_refuse_a_negative_timeout) {
    mtask_future *future = new_future();
    ck_assert_status(mtask_future_get(future, NULL, -1), MTASK_INVALID);
    ck_assert_status(mtask_future_wait(future, INT64_MIN), MTASK_INVALID);
    mtask_future_release(future);
}
END_TEST

START_TEST(wait_is_ok_however_it_ended) {
    mtask_future *set = new_future(), *failed = new_future(), *canceled = new_future();
    ck_assert_status(mtask_future_set(set, NULL), MTASK_OK);
    ck_assert_status(mtask_future_fail(failed, MTASK_BROKEN, NULL), MTASK_OK);
    ck_assert_status(mtask_future_cancel(canceled), MTASK_OK);
    ck_assert_status(mtask_future_wait(set, MTASK_NOWAIT), MTASK_OK);
    ck_assert_status(mtask_future_wait(failed, MTASK_NOWAIT), MTASK_OK);
    ck_assert_status(mtask_future_wait(canceled, MTASK_FOREVER), MTASK_OK);
    mtask_future_release(set);
    mtask_future_release(failed);
    mtask_future_release(canceled);
}
END_TEST

enum end_way { BY_SET, BY_FAIL, BY_CANCEL };

/* Ends a future in one of the three ways. */
static mtask_status end_it(mtask_future *future, enum end_way way) {
    if (way == BY_SET)
        return mtask_future_set(future, &some_value);
    if (way == BY_FAIL)
        return mtask_future_fail(future, MTASK_BROKEN, "broken");
    return mtask_future_cancel(future);
}

/* What get returns when it has ended in this way. */
static mtask_status end_status(enum end_way way) {
    return way == BY_SET ? MTASK_OK : way == BY_FAIL ? MTASK_FAILED : MTASK_CANCELED;
}

typedef struct getter {
    mtask_thread thread;
    mtask_future *future;
    enum end_way way;
    int64_t timeout;
} getter;

static void *get_expected(void *arg) {
    getter *self = (getter *)arg;
    mtask_outcome outcome;
    mtask_status status = mtask_future_get(self->future, &outcome, self->timeout);
    testing_check(status == end_status(self->way));
    testing_check(outcome.value == (self->way == BY_SET ? &some_value : NULL));
    ck_assert_status(mtask_future_wait(self->future, self->timeout), MTASK_OK);
    mtask_future_release(self->future);
    return NULL;
}

/* Ends a future for which several threads wait; each has a reference of its own. */
static void release_getters(enum end_way way) {
    enum { N = 5 };
    getter getters[N];
    mtask_future *future = new_future();
    memset(getters, 0, sizeof getters);
    for (int i = 0; i < N; i++) {
        getters[i].future = mtask_future_retain(future);
        getters[i].way = way;
        getters[i].timeout = i % 2 ? MTASK_FOREVER : MTASK_SEC(60);
        ck_assert_status(mtask_thread_start(&getters[i].thread, get_expected, &getters[i]),
                         MTASK_OK);
    }
    ck_assert_status(mtask_sleep(MTASK_MS(5)), MTASK_OK); /* let some of them wait */
    ck_assert_status(end_it(future, way), MTASK_OK);
    mtask_future_release(future); /* at once: they have their own */
    for (int i = 0; i < N; i++)
        ck_assert_status(mtask_thread_join(&getters[i].thread, NULL, MTASK_FOREVER), MTASK_OK);
}

START_TEST(set_releases_all_who_wait) {
    release_getters(BY_SET);
}
END_TEST

START_TEST(fail_releases_all_who_wait) {
    release_getters(BY_FAIL);
}
END_TEST

START_TEST(cancel_releases_all_who_wait) {
    release_getters(BY_CANCEL);
}
END_TEST

/* ---- references and values ---- */

START_TEST(an_abandoned_value_is_freed_once_by_the_last_release) {
    mtask_future *future = NULL;
    ck_assert_status(mtask_future_create(&future, count_free), MTASK_OK);
    ck_assert_ptr_eq(mtask_future_retain(future), future);
    ck_assert_status(mtask_future_set(future, &some_value), MTASK_OK);
    ck_assert_status(mtask_future_wait(future, MTASK_NOWAIT), MTASK_OK); /* takes nothing */
    mtask_future_release(future);
    ck_assert_uint_eq(mtask_word_load(&freed_count), 0);
    mtask_future_release(future);
    ck_assert_uint_eq(mtask_word_load(&freed_count), 1);
    ck_assert_ptr_eq(freed_value, &some_value);
}
END_TEST

START_TEST(a_value_that_was_taken_is_not_freed) {
    mtask_future *future = NULL;
    mtask_outcome outcome;
    ck_assert_status(mtask_future_create(&future, count_free), MTASK_OK);
    ck_assert_status(mtask_future_set(future, &some_value), MTASK_OK);
    ck_assert_status(mtask_future_get(future, &outcome, MTASK_NOWAIT), MTASK_OK);
    ck_assert_status(mtask_future_get(future, &outcome, MTASK_NOWAIT), MTASK_OK);
    ck_assert_ptr_eq(outcome.value, &some_value);
    mtask_future_release(future);
    ck_assert_uint_eq(mtask_word_load(&freed_count), 0);
}
END_TEST

START_TEST(without_a_value_nothing_is_freed) {
    for (int way = 0; way < 3; way++) {
        mtask_future *future = NULL;
        ck_assert_status(mtask_future_create(&future, count_free), MTASK_OK);
        if (way == 1)
            ck_assert_status(mtask_future_fail(future, MTASK_BROKEN, NULL), MTASK_OK);
        if (way == 2)
            ck_assert_status(mtask_future_cancel(future), MTASK_OK);
        mtask_future_release(future);
    }
    ck_assert_uint_eq(mtask_word_load(&freed_count), 0);
}
END_TEST

START_TEST(releasing_null_is_allowed) {
    mtask_future_release(NULL);
    ck_assert_uint_eq(mtask_word_load(&freed_count), 0);
}
END_TEST

/* ---- callbacks ---- */

static char calls[16]; /* the ctx of each callback, a letter, in the order of the calls */
static uint64_t called_by;

static void note_call(mtask_future *future, void *ctx) {
    size_t used = strlen(calls);
    testing_check(mtask_future_done(future) && used + 1 < sizeof calls);
    calls[used] = *(char *)ctx;
    called_by = mtask_task_id();
}

/* Adds note_call for every letter. */
static void then_letters(mtask_future *future, char *letters) {
    for (; *letters != 0; letters++)
        ck_assert_status(mtask_future_then(future, note_call, letters), MTASK_OK);
}

START_TEST(callbacks_run_in_the_order_in_which_they_were_added) {
    char letters[] = "abcdefgh", late[] = "zyx";
    for (int way = 0; way < 3; way++) {
        mtask_future *future = new_future();
        memset(calls, 0, sizeof calls);
        then_letters(future, letters);
        if (way != BY_CANCEL) {
            ck_assert_status(mtask_future_begin(future), MTASK_OK);
            ck_assert_str_eq(calls, "");
        }
        ck_assert_status(end_it(future, (enum end_way)way), MTASK_OK);
        ck_assert_str_eq(calls, "abcdefgh");
        then_letters(future, late); /* it has ended: here and now */
        ck_assert_str_eq(calls, "abcdefghzyx");
        ck_assert_uint_eq(called_by, mtask_task_id());
        mtask_future_release(future);
        ck_assert_str_eq(calls, "abcdefghzyx");
    }
}
END_TEST

START_TEST(a_refused_result_calls_nobody_again) {
    mtask_future *future = new_future();
    char letters[] = "a";
    then_letters(future, letters);
    ck_assert_status(mtask_future_cancel(future), MTASK_OK);
    ck_assert_status(mtask_future_cancel(future), MTASK_OK);
    ck_assert_status(mtask_future_set(future, NULL), MTASK_CANCELED);
    ck_assert_status(mtask_future_fail(future, MTASK_BROKEN, NULL), MTASK_CANCELED);
    ck_assert_str_eq(calls, "a");
    mtask_future_release(future);
}
END_TEST

START_TEST(a_released_future_that_never_ended_calls_nobody) {
    mtask_future *future = new_future();
    char letters[] = "abc";
    then_letters(future, letters);
    mtask_future_release(future); /* and what it remembered is freed: see the leak checker */
    ck_assert_str_eq(calls, "");
}
END_TEST

static void *set_it(void *arg) {
    ck_assert_status(mtask_future_set((mtask_future *)arg, &some_value), MTASK_OK);
    return NULL;
}

START_TEST(callbacks_run_in_the_thread_that_ends_it) {
    mtask_future *future = new_future();
    mtask_thread thread = {0};
    char letters[] = "a";
    then_letters(future, letters);
    ck_assert_status(mtask_thread_start(&thread, set_it, future), MTASK_OK);
    ck_assert_status(mtask_thread_join(&thread, NULL, MTASK_FOREVER), MTASK_OK);
    ck_assert_str_eq(calls, "a");
    ck_assert_uint_eq(called_by, mtask_thread_id(&thread));
    mtask_future_release(future);
}
END_TEST

START_TEST(then_refuses_no_function) {
    mtask_future *future = new_future();
    char letters[] = "a";
    ck_assert_status(mtask_future_then(future, NULL, NULL), MTASK_INVALID);
    then_letters(future, letters);
    ck_assert_status(mtask_future_set(future, NULL), MTASK_OK);
    ck_assert_status(mtask_future_then(future, NULL, NULL), MTASK_INVALID);
    ck_assert_str_eq(calls, "a");
    mtask_future_release(future);
}
END_TEST

static void take_value(mtask_future *future, void *ctx) {
    mtask_outcome outcome;
    ck_assert_status(mtask_future_get(future, &outcome, MTASK_NOWAIT), MTASK_OK);
    *(void **)ctx = outcome.value;
}

START_TEST(a_callback_can_take_the_value) {
    mtask_future *future = NULL;
    void *taken = NULL;
    ck_assert_status(mtask_future_create(&future, count_free), MTASK_OK);
    ck_assert_status(mtask_future_then(future, take_value, &taken), MTASK_OK);
    ck_assert_status(mtask_future_set(future, &some_value), MTASK_OK);
    ck_assert_ptr_eq(taken, &some_value);
    mtask_future_release(future);
    ck_assert_uint_eq(mtask_word_load(&freed_count), 0);
}
END_TEST

static void add_another(mtask_future *future, void *ctx) {
    note_call(future, ctx);
    ck_assert_status(mtask_future_then(future, note_call, (char *)ctx + 1), MTASK_OK);
}

START_TEST(a_callback_can_add_a_callback) {
    mtask_future *future = new_future();
    char letters[] = "abc";
    ck_assert_status(mtask_future_then(future, add_another, letters), MTASK_OK);
    ck_assert_status(mtask_future_then(future, note_call, letters + 2), MTASK_OK);
    ck_assert_status(mtask_future_set(future, NULL), MTASK_OK);
    ck_assert_uint_eq(strlen(calls), 3);
    ck_assert_int_eq(calls[0], 'a');
    ck_assert_ptr_nonnull(strchr(calls, 'b'));
    ck_assert(strchr(calls, 'c') > calls);
    mtask_future_release(future);
}
END_TEST

static void release_the_last(mtask_future *future, void *ctx) {
    (void)ctx;
    mtask_future_release(future);
    testing_check(mtask_future_done(future)); /* it lives while its callbacks run */
    testing_check(mtask_word_load(&freed_count) == 0);
}

START_TEST(the_future_lives_while_its_callbacks_run) {
    mtask_future *future = NULL;
    char letters[] = "ab";
    ck_assert_status(mtask_future_create(&future, count_free), MTASK_OK);
    ck_assert_status(mtask_future_then(future, release_the_last, NULL), MTASK_OK);
    then_letters(future, letters);
    ck_assert_status(mtask_future_set(future, &some_value), MTASK_OK);
    ck_assert_str_eq(calls, "ab");
    ck_assert_uint_eq(mtask_word_load(&freed_count), 1);
}
END_TEST

START_TEST(the_future_lives_while_a_callback_runs_at_once) {
    mtask_future *future = NULL;
    ck_assert_status(mtask_future_create(&future, count_free), MTASK_OK);
    ck_assert_status(mtask_future_set(future, &some_value), MTASK_OK);
    ck_assert_status(mtask_future_then(future, release_the_last, NULL), MTASK_OK);
    ck_assert_uint_eq(mtask_word_load(&freed_count), 1);
}
END_TEST

static void end_the_next(mtask_future *future, void *ctx) {
    (void)future;
    ck_assert_status(mtask_future_set((mtask_future *)ctx, NULL), MTASK_OK);
}

START_TEST(a_callback_can_end_another_future) {
    mtask_future *first = new_future(), *second = new_future();
    char letters[] = "a";
    then_letters(second, letters);
    ck_assert_status(mtask_future_then(first, end_the_next, second), MTASK_OK);
    ck_assert_status(mtask_future_cancel(first), MTASK_OK);
    ck_assert_str_eq(calls, "a");
    mtask_future_release(first);
    mtask_future_release(second);
}
END_TEST

/* ---- waiting for many ---- */

enum { MANY = 1000 };
static mtask_future *many[MANY];

static void make_many(size_t count) {
    for (size_t i = 0; i < count; i++)
        many[i] = new_future();
}

static void release_many(size_t count) {
    for (size_t i = 0; i < count; i++)
        mtask_future_release(many[i]);
}

static const mtask_wait_mode modes[] = {MTASK_WAIT_ALL, MTASK_WAIT_ANY, MTASK_WAIT_FIRST_FAILURE};

START_TEST(waiting_for_none_returns_at_once) {
    mtask_future *none[1] = {NULL};
    for (int i = 0; i < 3; i++) {
        ck_assert_status(mtask_futures_wait(none, 0, modes[i], MTASK_FOREVER), MTASK_OK);
        ck_assert_status(mtask_futures_wait(NULL, 0, modes[i], MTASK_NOWAIT), MTASK_OK);
    }
}
END_TEST

START_TEST(waiting_refuses_bad_arguments) {
    mtask_future *pair[2] = {new_future(), NULL};
    for (int i = 0; i < 3; i++) {
        ck_assert_status(mtask_futures_wait(pair, 1, modes[i], -1), MTASK_INVALID);
        ck_assert_status(mtask_futures_wait(pair, 2, modes[i], MTASK_NOWAIT), MTASK_INVALID);
        ck_assert_status(mtask_futures_wait(pair, 2, modes[i], MTASK_FOREVER), MTASK_INVALID);
    }
    ck_assert_status(mtask_futures_wait(pair, 1, (mtask_wait_mode)3, MTASK_NOWAIT), MTASK_INVALID);
    ck_assert_status(mtask_futures_wait(pair, 1, (mtask_wait_mode)77, MTASK_FOREVER),
                     MTASK_INVALID);
    ck_assert_status(mtask_future_set(pair[0], NULL), MTASK_OK); /* it hangs in no list */
    mtask_future_release(pair[0]);
}
END_TEST

START_TEST(waiting_for_many_stops_when_the_time_is_up) {
    static const size_t counts[] = {1, 16, 17};
    make_many(17);
    for (size_t c = 0; c < 3; c++) {
        for (int i = 0; i < 3; i++) {
            int64_t before = mtask_now();
            ck_assert_status(mtask_futures_wait(many, counts[c], modes[i], MTASK_MS(4)),
                             MTASK_TIMEOUT);
            ck_assert_int_ge(mtask_now() - before, MTASK_MS(4));
            ck_assert_status(mtask_futures_wait(many, counts[c], modes[i], MTASK_NOWAIT),
                             MTASK_TIMEOUT);
        }
    }
    for (size_t i = 0; i < 17; i++)
        ck_assert_status(mtask_future_set(many[i], NULL), MTASK_OK);
    release_many(17);
}
END_TEST

/* Ends the first `count` of many one by one, and looks at what the modes say on the way. */
static void end_one_by_one(size_t count) {
    make_many(count);
    for (size_t i = 0; i < count; i++) {
        mtask_status any = i > 0 ? MTASK_OK : MTASK_TIMEOUT;
        ck_assert_status(mtask_futures_wait(many, count, MTASK_WAIT_ALL, 0), MTASK_TIMEOUT);
        ck_assert_status(mtask_futures_wait(many, count, MTASK_WAIT_FIRST_FAILURE, 0),
                         MTASK_TIMEOUT);
        ck_assert_status(mtask_futures_wait(many, count, MTASK_WAIT_ANY, 0), any);
        /* From the end, so that no mode may look at the first one only. */
        ck_assert_status(mtask_future_set(many[count - 1 - i], NULL), MTASK_OK);
    }
    for (int i = 0; i < 3; i++)
        ck_assert_status(mtask_futures_wait(many, count, modes[i], MTASK_FOREVER), MTASK_OK);
    release_many(count);
}

START_TEST(the_modes_look_at_1_16_17_and_1000_futures) {
    end_one_by_one(1);
    end_one_by_one(16);
    end_one_by_one(17);
    end_one_by_one((size_t)(TESTING_TSAN || TESTING_ASAN ? 100 : 1000));
}
END_TEST

START_TEST(first_failure_looks_for_failures_only) {
    make_many(4);
    ck_assert_status(mtask_future_set(many[0], NULL), MTASK_OK);
    ck_assert_status(mtask_future_cancel(many[1]), MTASK_OK); /* cancelled is not failed */
    ck_assert_status(mtask_futures_wait(many, 4, MTASK_WAIT_FIRST_FAILURE, MTASK_MS(2)),
                     MTASK_TIMEOUT);
    ck_assert_status(mtask_future_fail(many[2], MTASK_BROKEN, NULL), MTASK_OK);
    ck_assert_status(mtask_futures_wait(many, 4, MTASK_WAIT_FIRST_FAILURE, MTASK_FOREVER),
                     MTASK_OK);
    ck_assert_status(mtask_futures_wait(many, 4, MTASK_WAIT_ALL, MTASK_NOWAIT), MTASK_TIMEOUT);
    ck_assert(!mtask_future_done(many[3]));
    release_many(4);
}
END_TEST

START_TEST(the_same_future_may_stand_there_several_times) {
    mtask_future *same = new_future(), *other = new_future();
    mtask_future *futures[20];
    for (int i = 0; i < 20; i++)
        futures[i] = i == 10 ? other : same;
    for (size_t count = 10; count <= 20; count += 5) {
        ck_assert_status(mtask_futures_wait(futures, count, MTASK_WAIT_ALL, MTASK_MS(1)),
                         MTASK_TIMEOUT);
        ck_assert_status(mtask_futures_wait(futures, count, MTASK_WAIT_ANY, MTASK_MS(1)),
                         MTASK_TIMEOUT);
    }
    ck_assert_status(mtask_future_set(same, NULL), MTASK_OK);
    ck_assert_status(mtask_futures_wait(futures, 10, MTASK_WAIT_ALL, MTASK_FOREVER), MTASK_OK);
    ck_assert_status(mtask_futures_wait(futures, 20, MTASK_WAIT_ALL, MTASK_NOWAIT), MTASK_TIMEOUT);
    ck_assert_status(mtask_future_set(other, NULL), MTASK_OK);
    ck_assert_status(mtask_futures_wait(futures, 20, MTASK_WAIT_ALL, MTASK_FOREVER), MTASK_OK);
    mtask_future_release(same);
    mtask_future_release(other);
}
END_TEST

static mtask_event many_gate;

typedef struct many_waiter {
    mtask_thread thread;
    size_t count;
    mtask_wait_mode mode;
} many_waiter;

static void *wait_for_many(void *arg) {
    many_waiter *self = (many_waiter *)arg;
    ck_assert_status(mtask_futures_wait(many, self->count, self->mode, MTASK_FOREVER), MTASK_OK);
    return NULL;
}

static void start_waiter(many_waiter *waiter, size_t count, mtask_wait_mode mode) {
    memset(waiter, 0, sizeof *waiter);
    waiter->count = count;
    waiter->mode = mode;
    ck_assert_status(mtask_thread_start(&waiter->thread, wait_for_many, waiter), MTASK_OK);
}

static void join_waiter(many_waiter *waiter) {
    ck_assert_status(mtask_thread_join(&waiter->thread, NULL, MTASK_FOREVER), MTASK_OK);
}

/* Three threads wait for `count` futures, in the three modes, while these end one after another. */
static void wake_waiters_of(size_t count) {
    many_waiter all, any, failure;
    make_many(count);
    start_waiter(&all, count, MTASK_WAIT_ALL);
    start_waiter(&any, count, MTASK_WAIT_ANY);
    start_waiter(&failure, count, MTASK_WAIT_FIRST_FAILURE);
    ck_assert_status(mtask_sleep(MTASK_MS(5)), MTASK_OK); /* let them wait */
    ck_assert(mtask_thread_is_alive(&any.thread));
    ck_assert_status(mtask_future_set(many[count / 2], NULL), MTASK_OK);
    join_waiter(&any);
    if (count > 1) {
        ck_assert(mtask_thread_is_alive(&all.thread) && mtask_thread_is_alive(&failure.thread));
        ck_assert_status(mtask_future_fail(many[0], MTASK_BROKEN, NULL), MTASK_OK);
    }
    join_waiter(&failure);
    for (size_t i = 1; i < count; i++) {
        ck_assert(mtask_thread_is_alive(&all.thread));
        if (i != count / 2)
            ck_assert_status(i % 2 ? mtask_future_cancel(many[i]) : mtask_future_set(many[i], NULL),
                             MTASK_OK);
    }
    join_waiter(&all);
    release_many(count);
}

START_TEST(waiters_for_many_wake_when_their_mode_says_so) {
    wake_waiters_of(1);
    wake_waiters_of(3);
    wake_waiters_of(16);
    wake_waiters_of(17);
    wake_waiters_of((size_t)(TESTING_TSAN || TESTING_ASAN ? 60 : MANY));
}
END_TEST

START_TEST(futures_may_be_released_as_soon_as_the_wait_returns) {
    for (int round = 0; round < 50; round++) {
        mtask_thread thread = {0};
        make_many(3);
        /* Ended by this thread's any-wait, while the setter is perhaps still at work on it. */
        ck_assert_status(mtask_thread_start(&thread, set_it, mtask_future_retain(many[1])),
                         MTASK_OK);
        ck_assert_status(mtask_futures_wait(many, 3, MTASK_WAIT_ANY, MTASK_FOREVER), MTASK_OK);
        ck_assert(mtask_future_done(many[1]));
        ck_assert_status(mtask_thread_join(&thread, NULL, MTASK_FOREVER), MTASK_OK);
        mtask_future_release(many[1]);
        release_many(3);
    }
}
END_TEST

/* ---- all at once ---- */

typedef struct raced {
    mtask_future *future;
    mtask_word called; /* how often callbacks ran */
    mtask_word added;  /* how many were added */
    mtask_word ended;  /* how many set, fail and (first) cancel calls succeeded */
    mtask_word freed;  /* how often free_value ran */
    mtask_word taken;  /* whether anybody got the value */
    mtask_word valued; /* whether it was set */
} raced;

static raced race;
static mtask_barrier race_start;
static uint64_t race_seed;

static void count_call(mtask_future *future, void *ctx) {
    testing_check(mtask_future_done(future));
    mtask_word_add((mtask_word *)ctx, 1);
}

static void count_raced_free(void *value) {
    mtask_word_add((mtask_word *)value, 1);
}

/* Ends the raced future in a random way, or tries to. */
static void race_to_end(mtask_future *future, testing_random *random) {
    enum end_way way = (enum end_way)testing_below(random, 3);
    mtask_status status;
    if (testing_below(random, 2) == 0 && mtask_future_begin(future) == MTASK_CANCELED)
        testing_check(mtask_future_canceled(future));
    if (way == BY_CANCEL) {
        status = mtask_future_cancel(future);
        testing_check(status == MTASK_OK || status == MTASK_INVALID);
        if (status == MTASK_OK)
            testing_check(mtask_future_canceled(future));
        else if (!mtask_future_done(future))
            status = mtask_future_fail(future, MTASK_BROKEN, "too late"); /* it runs: end it */
    } else if (way == BY_SET) {
        status = mtask_future_set(future, (void *)&race.freed);
        if (status == MTASK_OK)
            mtask_word_store(&race.valued, 1);
    } else {
        status = mtask_future_fail(future, MTASK_EMPTY, "%d", 1);
    }
    if (status == MTASK_OK && !(way == BY_CANCEL && mtask_future_canceled(future)))
        mtask_word_add(&race.ended, 1);
    testing_check(mtask_future_done(future));
}

/* Gets the raced future, with and without time-outs. */
static void race_to_get(mtask_future *future, testing_random *random) {
    int64_t timeout = testing_below(random, 2) ? MTASK_FOREVER : MTASK_US(50);
    mtask_outcome outcome;
    mtask_status status = mtask_future_get(future, &outcome, timeout);
    if (status == MTASK_TIMEOUT) {
        testing_check(timeout != MTASK_FOREVER);
        return;
    }
    testing_check(status == MTASK_OK || status == MTASK_FAILED || status == MTASK_CANCELED);
    testing_check((status == MTASK_CANCELED) == mtask_future_canceled(future));
    if (status == MTASK_OK) {
        testing_check(outcome.value == &race.freed);
        mtask_word_store(&race.taken, 1);
    }
}

/* Waits for the raced future among others. */
static void race_to_wait(mtask_future *future, testing_random *random) {
    mtask_future *futures[3];
    mtask_wait_mode mode = modes[testing_below(random, 3)];
    int64_t timeout = testing_below(random, 2) ? MTASK_FOREVER : MTASK_US(50);
    mtask_status status;
    futures[0] = futures[1] = futures[2] = future;
    status = mtask_futures_wait(futures, 1 + testing_below(random, 3), mode, timeout);
    testing_check(status == MTASK_OK || (status == MTASK_TIMEOUT && timeout != MTASK_FOREVER));
    if (status == MTASK_OK)
        testing_check(mtask_future_done(future));
}

static void *race_worker(void *arg) {
    uintptr_t index = (uintptr_t)arg;
    testing_random random = testing_random_make(race_seed, (unsigned)index);
    for (long i = testing_scale(2000); i > 0; i--) {
        mtask_future *future;
        ck_assert_status(mtask_barrier_wait(&race_start, NULL, MTASK_FOREVER), MTASK_OK);
        future = mtask_future_retain(race.future);
        for (uint64_t then = testing_below(&random, 3); then > 0; then--) {
            ck_assert_status(mtask_future_then(future, count_call, &race.called), MTASK_OK);
            mtask_word_add(&race.added, 1);
        }
        if (index < 2)
            race_to_end(future, &random);
        else if (index == 2)
            race_to_get(future, &random);
        else
            race_to_wait(future, &random);
        mtask_future_release(future);
        ck_assert_status(mtask_barrier_wait(&race_start, NULL, MTASK_FOREVER), MTASK_OK);
    }
    return NULL;
}

/* What must be true of a round when everybody has finished. */
static void check_race(void) {
    bool canceled = mtask_future_canceled(race.future);
    ck_assert(mtask_future_done(race.future));
    ck_assert_uint_eq(mtask_word_load(&race.called), mtask_word_load(&race.added));
    ck_assert_uint_eq(mtask_word_load(&race.ended), canceled ? 0 : 1);
    mtask_future_release(race.future);
    if (mtask_word_load(&race.valued) && !mtask_word_load(&race.taken))
        ck_assert_uint_eq(mtask_word_load(&race.freed), 1);
    else
        ck_assert_uint_eq(mtask_word_load(&race.freed), 0);
}

START_TEST(setters_cancellers_getters_and_callbacks_race_without_harm) {
    enum { N = 4 };
    mtask_thread threads[N] = {0};
    race_seed = testing_seed();
    ck_assert_status(mtask_barrier_init(&race_start, N + 1, NULL, NULL, 0), MTASK_OK);
    for (uintptr_t i = 0; i < N; i++)
        ck_assert_status(mtask_thread_start(&threads[i], race_worker, (void *)i), MTASK_OK);
    for (long i = testing_scale(2000); i > 0; i--) {
        memset(&race, 0, sizeof race);
        ck_assert_status(mtask_future_create(&race.future, count_raced_free), MTASK_OK);
        ck_assert_status(mtask_barrier_wait(&race_start, NULL, MTASK_FOREVER), MTASK_OK);
        ck_assert_status(mtask_barrier_wait(&race_start, NULL, MTASK_FOREVER), MTASK_OK);
        check_race();
    }
    for (int i = 0; i < N; i++)
        ck_assert_status(mtask_thread_join(&threads[i], NULL, MTASK_FOREVER), MTASK_OK);
}
END_TEST

static mtask_future *shared_futures[8];

/* Waits for all, for any and for the first failure, over and over, while others end them. */
static void *wait_in_all_modes(void *arg) {
    mtask_wait_mode mode = modes[(uintptr_t)arg % 3];
    ck_assert_status(mtask_event_wait(&many_gate, MTASK_FOREVER), MTASK_OK);
    for (size_t count = 1; count <= 8; count++)
        ck_assert_status(mtask_futures_wait(shared_futures, count, mode, MTASK_FOREVER), MTASK_OK);
    return NULL;
}

static void *end_in_random_order(void *arg) {
    testing_random random = testing_random_make(race_seed, (unsigned)(uintptr_t)arg);
    ck_assert_status(mtask_event_wait(&many_gate, MTASK_FOREVER), MTASK_OK);
    for (int left = 8; left > 0;) {
        size_t i = testing_below(&random, 8);
        left = 0;
        (void)end_it(shared_futures[i], (enum end_way)testing_below(&random, 3));
        for (size_t j = 0; j < 8; j++)
            left += !mtask_future_done(shared_futures[j]);
    }
    return NULL;
}

/* One round: six waiters and two that end eight futures. */
static void wait_and_end(uintptr_t round) {
    mtask_thread threads[8] = {0};
    mtask_event_clear(&many_gate);
    for (int i = 0; i < 8; i++)
        shared_futures[i] = new_future();
    for (uintptr_t i = 0; i < 8; i++)
        ck_assert_status(mtask_thread_start(&threads[i],
                                            i < 6 ? wait_in_all_modes : end_in_random_order,
                                            (void *)(i + 8 * round)),
                         MTASK_OK);
    mtask_event_set(&many_gate);
    for (int i = 0; i < 8; i++)
        ck_assert_status(mtask_thread_join(&threads[i], NULL, MTASK_FOREVER), MTASK_OK);
    for (int i = 0; i < 8; i++)
        mtask_future_release(shared_futures[i]);
}

START_TEST(waiters_for_several_all_return_when_others_end_them) {
    race_seed = testing_seed();
    for (long i = testing_scale(200); i > 0; i--)
        wait_and_end((uintptr_t)i);
}
END_TEST

TESTING_MAIN("future", a_new_future_is_pending, begin_makes_it_running_once,
             a_promise_may_be_kept_without_begin, cancel_works_only_before_it_runs,
             a_cancelled_future_takes_no_result, a_finished_future_takes_no_second_result,
             a_failed_future_takes_no_second_result, a_failure_has_a_status_and_a_text,
             a_failure_with_ok_and_without_a_text_is_a_failure, a_long_text_is_cut_to_its_room,
             get_and_wait_stop_when_their_time_is_up, get_and_wait_refuse_a_negative_timeout,
             wait_is_ok_however_it_ended, set_releases_all_who_wait, fail_releases_all_who_wait,
             cancel_releases_all_who_wait, an_abandoned_value_is_freed_once_by_the_last_release,
             a_value_that_was_taken_is_not_freed, without_a_value_nothing_is_freed,
             releasing_null_is_allowed, callbacks_run_in_the_order_in_which_they_were_added,
             a_refused_result_calls_nobody_again, a_released_future_that_never_ended_calls_nobody,
             callbacks_run_in_the_thread_that_ends_it, then_refuses_no_function,
             a_callback_can_take_the_value, a_callback_can_add_a_callback,
             the_future_lives_while_its_callbacks_run,
             the_future_lives_while_a_callback_runs_at_once, a_callback_can_end_another_future,
             waiting_for_none_returns_at_once, waiting_refuses_bad_arguments,
             waiting_for_many_stops_when_the_time_is_up, the_modes_look_at_1_16_17_and_1000_futures,
             first_failure_looks_for_failures_only, the_same_future_may_stand_there_several_times,
             waiters_for_many_wake_when_their_mode_says_so,
             futures_may_be_released_as_soon_as_the_wait_returns,
             setters_cancellers_getters_and_callbacks_race_without_harm,
             waiters_for_several_all_return_when_others_end_them)
