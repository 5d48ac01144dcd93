/* test_mtask_group.c - groups of tasks: wait for all, the first failure, cancel, use again */
#include "testing_pool.h"

/* ---- helpers ---- */

static mtask_pool *make(const mtask_pool_desc *desc) {
    mtask_pool *pool = NULL;
    ck_assert_status(mtask_pool_create(&pool, desc), MTASK_OK);
    ck_assert_ptr_nonnull(pool);
    return pool;
}

static void init(mtask_group *group, mtask_pool *pool, int flags) {
    memset(group, 0x5a, sizeof *group);
    ck_assert_status(mtask_group_init(group, pool, flags), MTASK_OK);
}

static void post(mtask_group *group, mtask_fn fn, void *arg) {
    ck_assert_status(mtask_group_post(group, fn, arg), MTASK_OK);
}

static mtask_future *submit(mtask_group *group, mtask_fn fn, void *arg) {
    mtask_future *future = NULL;
    ck_assert_status(mtask_group_submit(group, fn, arg, &future), MTASK_OK);
    ck_assert_ptr_nonnull(future);
    return future;
}

/* Runs a task outside all groups and returns its value. */
static void *run_in(mtask_pool *pool, mtask_fn fn, void *arg) {
    mtask_future *future = NULL;
    mtask_outcome outcome;
    ck_assert_status(mtask_pool_submit(pool, fn, arg, &future), MTASK_OK);
    ck_assert_status(mtask_future_get(future, &outcome, MTASK_FOREVER), MTASK_OK);
    mtask_future_release(future);
    return outcome.value;
}

static void wait_ok(mtask_group *group) {
    ck_assert_status(mtask_group_wait(group, NULL, MTASK_FOREVER), MTASK_OK);
    ck_assert_uint_eq(mtask_group_pending(group), 0);
}

static void *return_arg(void *arg) {
    return arg;
}

static void *count_one(void *arg) {
    mtask_word_add((mtask_word *)arg, 1);
    return NULL;
}

/* Fails with the text that it is given. */
static void *fail_with(void *arg) {
    return mtask_fail(MTASK_NOT_FOUND, "no %s", (const char *)arg);
}

static mtask_event gate;
static mtask_word at_gate; /* how many have come there */

static void *wait_at_gate(void *arg) {
    mtask_word_add(&at_gate, 1);
    ck_assert_status(mtask_event_wait(&gate, MTASK_FOREVER), MTASK_OK);
    return arg;
}

static void *fail_at_gate(void *arg) {
    (void)wait_at_gate(arg);
    return fail_with(arg);
}

static mtask_pool_stats stats_of(mtask_pool *pool) {
    mtask_pool_stats stats;
    ck_assert_status(mtask_pool_get_stats(pool, &stats, NULL, 0), MTASK_OK);
    return stats;
}

/* A pool of one worker, held at the gate by a task outside all groups. */
static mtask_pool *make_held(void) {
    mtask_pool *pool = open_pool(1);
    mtask_event_clear(&gate);
    mtask_word_store(&at_gate, 0);
    ck_assert_status(mtask_pool_post(pool, wait_at_gate, NULL), MTASK_OK);
    await_word(&at_gate, 1);
    return pool;
}

static void wait_forever(testing_member *self) {
    self->status = mtask_group_wait((mtask_group *)self->arg, NULL, MTASK_FOREVER);
}

static void wait_for_a_minute(testing_member *self) {
    self->status = mtask_group_wait((mtask_group *)self->arg, NULL, MTASK_SEC(60));
}

/* Fails the test unless the wait, which ends at once or soon, tells of this failure. */
static void check_failure(mtask_group *group, mtask_status status, const char *text) {
    mtask_outcome outcome;
    memset(&outcome, 0x5a, sizeof outcome);
    ck_assert_status(mtask_group_wait(group, &outcome, MTASK_FOREVER), MTASK_FAILED);
    ck_assert_status(outcome.status, status);
    ck_assert_str_eq(outcome.text, text);
    ck_assert_ptr_null(outcome.value);
    ck_assert_uint_eq(mtask_group_pending(group), 0);
}

/* ---- all of them ---- */

START_TEST(an_empty_group_has_nothing_to_wait_for) {
    mtask_pool *pool = open_pool(1);
    mtask_outcome outcome;
    mtask_group group;
    init(&group, pool, 0);
    ck_assert_uint_eq(mtask_group_pending(&group), 0);
    for (int i = 0; i < 3; i++) {
        memset(&outcome, 0x5a, sizeof outcome);
        ck_assert_status(mtask_group_wait(&group, &outcome, MTASK_FOREVER), MTASK_OK);
        ck_assert_status(mtask_group_wait(&group, NULL, MTASK_NOWAIT), MTASK_OK);
    }
    end_pool(pool);
}
END_TEST

START_TEST(unknown_flags_and_missing_functions_are_refused) {
    mtask_pool *pool = open_pool(1);
    mtask_future *future = NULL;
    mtask_group group;
    ck_assert_status(mtask_group_init(&group, pool, MTASK_SHARED), MTASK_INVALID);
    ck_assert_status(mtask_group_init(&group, pool, MTASK_FAIL_FAST << 1), MTASK_INVALID);
    ck_assert_status(mtask_group_init(&group, pool, -1), MTASK_INVALID);
    init(&group, pool, MTASK_FAIL_FAST);
    ck_assert_status(mtask_group_post(&group, NULL, NULL), MTASK_INVALID);
    ck_assert_status(mtask_group_submit(&group, NULL, NULL, &future), MTASK_INVALID);
    ck_assert_uint_eq(mtask_group_pending(&group), 0);
    ck_assert_status(mtask_group_wait(&group, NULL, -1), MTASK_INVALID);
    wait_ok(&group);
    end_pool(pool);
}
END_TEST

START_TEST(wait_returns_when_all_tasks_have_ended) {
    for (unsigned workers = 1; workers <= 3; workers++) {
        mtask_pool *pool = open_pool(workers);
        mtask_word ran = 0;
        mtask_group group;
        init(&group, pool, 0);
        for (int i = 0; i < 500; i++)
            post(&group, count_one, &ran);
        wait_ok(&group);
        ck_assert_uint_eq(mtask_word_load(&ran), 500);
        end_pool(pool);
    }
}
END_TEST

START_TEST(a_group_waits_for_its_own_tasks_only) {
    mtask_pool *pool = open_pool(2);
    mtask_word ran = 0;
    mtask_group mine, other;
    init(&mine, pool, 0);
    init(&other, pool, 0);
    post(&other, wait_at_gate, NULL);
    await_word(&at_gate, 1);
    for (int i = 0; i < 10; i++)
        post(&mine, count_one, &ran);
    wait_ok(&mine);
    ck_assert_uint_eq(mtask_word_load(&ran), 10);
    ck_assert_uint_eq(mtask_group_pending(&other), 1);
    mtask_event_set(&gate);
    wait_ok(&other);
    end_pool(pool);
}
END_TEST

START_TEST(pending_counts_what_has_not_ended) {
    mtask_pool *pool = make_held();
    mtask_group group;
    init(&group, pool, 0);
    for (unsigned i = 0; i < 5; i++) {
        ck_assert_uint_eq(mtask_group_pending(&group), i);
        post(&group, wait_at_gate, NULL);
    }
    ck_assert_uint_eq(mtask_group_pending(&group), 5);
    mtask_event_set(&gate);
    wait_ok(&group);
    mtask_event_clear(&gate);
    post(&group, wait_at_gate, NULL);
    await_word(&at_gate, 7);
    ck_assert_uint_eq(mtask_group_pending(&group), 1); /* also while it runs */
    mtask_event_set(&gate);
    wait_ok(&group);
    end_pool(pool);
}
END_TEST

START_TEST(tasks_of_a_group_have_futures_too) {
    mtask_pool *pool = open_pool(2);
    mtask_future *good, *bad;
    mtask_outcome outcome;
    mtask_group group;
    init(&group, pool, 0);
    good = submit(&group, return_arg, &group);
    ck_assert_status(mtask_group_submit(&group, return_arg, NULL, NULL), MTASK_OK);
    wait_ok(&group);
    ck_assert(mtask_future_done(good));
    ck_assert_status(mtask_future_get(good, &outcome, MTASK_NOWAIT), MTASK_OK);
    ck_assert_ptr_eq(outcome.value, &group);
    bad = submit(&group, fail_with, (void *)"key");
    check_failure(&group, MTASK_NOT_FOUND, "no key");
    ck_assert_status(mtask_future_get(bad, &outcome, MTASK_NOWAIT), MTASK_FAILED);
    ck_assert_str_eq(outcome.text, "no key");
    mtask_future_release(good);
    mtask_future_release(bad);
    end_pool(pool);
}
END_TEST

START_TEST(futures_of_a_group_outlive_it) {
    mtask_pool *pool = open_pool(2);
    mtask_group *group = (mtask_group *)malloc(sizeof *group);
    mtask_future *future;
    mtask_outcome outcome;
    ck_assert_ptr_nonnull(group);
    init(group, pool, 0);
    future = submit(group, return_arg, pool);
    wait_ok(group);
    free(group);
    ck_assert_status(mtask_future_get(future, &outcome, MTASK_FOREVER), MTASK_OK);
    ck_assert_ptr_eq(outcome.value, pool);
    end_pool(pool);
    mtask_future_release(future);
}
END_TEST

static void count_success(void *value, void *ctx) {
    (void)value;
    mtask_word_add((mtask_word *)ctx, 1);
}

static void count_failure(const mtask_outcome *outcome, void *ctx) {
    (void)outcome;
    mtask_word_add((mtask_word *)ctx, 1000);
}

START_TEST(a_described_task_may_belong_to_a_group) {
    mtask_pool *pool = open_pool(2), *other = open_pool(1);
    mtask_word called = 0;
    mtask_group group;
    mtask_task_desc task = {.fn = return_arg,
                            .group = &group,
                            .on_success = count_success,
                            .on_failure = count_failure,
                            .ctx = &called};
    mtask_future *future = NULL;
    init(&group, pool, 0);
    ck_assert_status(mtask_pool_submit_ex(other, &task, &future, MTASK_FOREVER), MTASK_INVALID);
    ck_assert_status(mtask_pool_submit_ex(NULL, &task, &future, MTASK_FOREVER), MTASK_INVALID);
    ck_assert_uint_eq(mtask_group_pending(&group), 0);
    for (int i = 0; i < 20; i++)
        ck_assert_status(mtask_pool_submit_ex(pool, &task, NULL, MTASK_FOREVER), MTASK_OK);
    task.fn = fail_with;
    task.arg = (void *)"file";
    ck_assert_status(mtask_pool_submit_ex(pool, &task, &future, MTASK_FOREVER), MTASK_OK);
    check_failure(&group, MTASK_NOT_FOUND, "no file");
    ck_assert(mtask_future_done(future));
    mtask_future_release(future);
    end_pool(pool);
    end_pool(other);
    ck_assert_uint_eq(mtask_word_load(&called), 1020);
}
END_TEST

START_TEST(a_group_without_a_pool_uses_the_default_pool) {
    mtask_pool *pool = NULL;
    mtask_word ran = 0;
    mtask_group group;
    mtask_task_desc task = {.fn = count_one, .arg = &ran, .group = &group};
    init(&group, NULL, 0);
    for (int i = 0; i < 100; i++)
        post(&group, count_one, &ran);
    wait_ok(&group);
    ck_assert_uint_eq(mtask_word_load(&ran), 100);
    ck_assert_status(mtask_pool_default(&pool), MTASK_OK);
    ck_assert_uint_eq(stats_of(pool).submitted, 100);
    ck_assert_status(mtask_pool_submit_ex(NULL, &task, NULL, MTASK_FOREVER), MTASK_OK);
    ck_assert_status(mtask_pool_submit_ex(pool, &task, NULL, MTASK_FOREVER), MTASK_OK);
    wait_ok(&group);
    ck_assert_uint_eq(mtask_word_load(&ran), 102);
}
END_TEST

/* ---- waiting ---- */

START_TEST(a_wait_with_a_timeout_takes_its_time) {
    mtask_pool *pool = make_held();
    int64_t start;
    mtask_outcome outcome;
    mtask_group group;
    init(&group, pool, 0);
    post(&group, return_arg, NULL);
    ck_assert_status(mtask_group_wait(&group, &outcome, MTASK_NOWAIT), MTASK_TIMEOUT);
    start = mtask_now();
    ck_assert_status(mtask_group_wait(&group, &outcome, MTASK_MS(20)), MTASK_TIMEOUT);
    ck_assert_int_ge(mtask_now() - start, MTASK_MS(20));
    ck_assert_uint_eq(mtask_group_pending(&group), 1);
    mtask_event_set(&gate);
    ck_assert_status(mtask_group_wait(&group, &outcome, MTASK_SEC(60)), MTASK_OK);
    end_pool(pool);
}
END_TEST

START_TEST(a_wait_that_timed_out_loses_no_failure) {
    mtask_pool *pool = open_pool(2);
    mtask_outcome outcome;
    mtask_group group;
    init(&group, pool, 0);
    post(&group, wait_at_gate, NULL);
    post(&group, fail_with, (void *)"luck");
    await_word(&at_gate, 1);
    while (mtask_group_pending(&group) > 1)
        testing_pause(1);
    ck_assert_status(mtask_group_wait(&group, &outcome, MTASK_MS(1)), MTASK_TIMEOUT);
    mtask_event_set(&gate);
    check_failure(&group, MTASK_NOT_FOUND, "no luck");
    wait_ok(&group); /* it was told; the group is as new */
    end_pool(pool);
}
END_TEST

START_TEST(a_waiter_sleeps_until_the_last_task_ends) {
    mtask_pool *pool = open_pool(2);
    testing_crowd crowd;
    mtask_group group;
    init(&group, pool, 0);
    for (int i = 0; i < 2; i++)
        post(&group, wait_at_gate, NULL);
    await_word(&at_gate, 2);
    testing_crowd_start(&crowd, 1, wait_forever, &group);
    testing_check_idle(&crowd.members[0]);
    mtask_event_set(&gate);
    testing_crowd_join(&crowd);
    ck_assert_status(crowd.members[0].status, MTASK_OK);
    ck_assert_uint_eq(mtask_group_pending(&group), 0);
    end_pool(pool);
}
END_TEST

START_TEST(several_may_wait_for_a_group) {
    for (int round = 0; round < 20; round++) {
        mtask_pool *pool = make_held();
        testing_crowd crowd;
        mtask_group group;
        init(&group, pool, 0);
        for (int i = 0; i < 3; i++)
            post(&group, return_arg, NULL);
        testing_crowd_start(&crowd, 2, wait_forever, &group);
        (void)testing_crowd_add(&crowd, wait_for_a_minute, &group);
        testing_crowd_await_asleep(&crowd, 3);
        mtask_event_set(&gate);
        testing_crowd_join(&crowd);
        ck_assert_int_eq(testing_crowd_count(&crowd, MTASK_OK), 3);
        end_pool(pool);
    }
}
END_TEST

static void *wait_in_task(void *arg) {
    wait_ok((mtask_group *)arg);
    return arg;
}

START_TEST(another_task_may_wait_for_a_group) {
    mtask_pool *pool = make_held(), *other = open_pool(1);
    mtask_future *future = NULL;
    mtask_group group;
    init(&group, pool, 0);
    for (int i = 0; i < 10; i++)
        post(&group, return_arg, NULL);
    ck_assert_status(mtask_pool_submit(other, wait_in_task, &group, &future), MTASK_OK);
    while (!mtask_future_running(future))
        testing_pause(1);
    mtask_event_set(&gate);
    ck_assert_status(mtask_future_get(future, NULL, MTASK_FOREVER), MTASK_OK);
    mtask_future_release(future);
    end_pool(other);
    end_pool(pool);
}
END_TEST

/* ---- failures ---- */

START_TEST(the_first_failure_in_time_is_told) {
    mtask_pool *pool = open_pool(2);
    mtask_word ran = 0;
    mtask_group group;
    init(&group, pool, 0);
    post(&group, fail_at_gate, (void *)"end");
    await_word(&at_gate, 1); /* submitted first, it will fail last */
    post(&group, count_one, &ran);
    post(&group, fail_with, (void *)"beginning");
    post(&group, fail_with, (void *)"middle");
    while (mtask_group_pending(&group) > 1)
        testing_pause(1);
    mtask_event_set(&gate);
    check_failure(&group, MTASK_NOT_FOUND, "no beginning");
    end_pool(pool);
}
END_TEST

START_TEST(a_failure_does_not_stop_the_others) {
    for (unsigned workers = 1; workers <= 2; workers++) {
        mtask_pool *pool = open_pool(workers);
        mtask_word ran = 0;
        mtask_group group;
        init(&group, pool, 0);
        for (int i = 0; i < 100; i++)
            post(&group, i % 10 == 5 ? fail_with : count_one,
                 i % 10 == 5 ? (void *)"way" : (void *)&ran);
        check_failure(&group, MTASK_NOT_FOUND, "no way");
        ck_assert_uint_eq(mtask_word_load(&ran), 90);
        ck_assert_uint_eq(stats_of(pool).canceled, 0);
        end_pool(pool);
    }
}
END_TEST

START_TEST(the_outcome_may_be_left_out) {
    mtask_pool *pool = open_pool(1);
    mtask_group group;
    init(&group, pool, 0);
    post(&group, fail_with, (void *)"sense");
    ck_assert_status(mtask_group_wait(&group, NULL, MTASK_FOREVER), MTASK_FAILED);
    ck_assert_status(mtask_group_wait(&group, NULL, MTASK_FOREVER), MTASK_OK);
    end_pool(pool);
}
END_TEST

START_TEST(one_worker_tells_the_failure_that_was_submitted_first) {
    mtask_pool *pool = open_pool(1);
    mtask_group group;
    init(&group, pool, 0);
    for (int round = 0; round < 50; round++) {
        post(&group, return_arg, NULL);
        post(&group, fail_with, (void *)"first");
        post(&group, fail_with, (void *)"second");
        check_failure(&group, MTASK_NOT_FOUND, "no first");
    }
    end_pool(pool);
}
END_TEST

static void *fail_with_long_text(void *arg) {
    (void)arg;
    return mtask_fail(MTASK_OK, "%0300d", 7);
}

START_TEST(a_long_text_is_cut) {
    mtask_pool *pool = open_pool(1);
    mtask_outcome outcome;
    mtask_group group;
    init(&group, pool, 0);
    post(&group, fail_with_long_text, NULL);
    ck_assert_status(mtask_group_wait(&group, &outcome, MTASK_FOREVER), MTASK_FAILED);
    ck_assert_status(outcome.status, MTASK_FAILED);
    ck_assert_uint_eq(strlen(outcome.text), MTASK_TEXT_SIZE - 1);
    end_pool(pool);
}
END_TEST

START_TEST(fail_fast_cancels_what_has_not_started) {
    mtask_pool *pool = open_pool(1);
    mtask_word ran = 0;
    mtask_future *last, *outside = NULL;
    mtask_group group;
    init(&group, pool, MTASK_FAIL_FAST);
    post(&group, fail_at_gate, (void *)"go");
    await_word(&at_gate, 1);
    for (int i = 0; i < 10; i++)
        post(&group, count_one, &ran);
    last = submit(&group, count_one, &ran);
    ck_assert_status(mtask_pool_submit(pool, count_one, &ran, &outside), MTASK_OK);
    mtask_event_set(&gate);
    check_failure(&group, MTASK_NOT_FOUND, "no go");
    ck_assert(mtask_future_canceled(last));
    ck_assert_status(mtask_future_get(outside, NULL, MTASK_FOREVER), MTASK_OK);
    ck_assert_uint_eq(mtask_word_load(&ran), 1); /* the one outside */
    ck_assert_uint_eq(stats_of(pool).canceled, 11);
    mtask_future_release(last);
    mtask_future_release(outside);
    end_pool(pool);
}
END_TEST

START_TEST(fail_fast_refuses_more_until_it_was_waited_for) {
    mtask_pool *pool = open_pool(2);
    mtask_word ran = 0;
    mtask_future *future = NULL;
    mtask_group group;
    init(&group, pool, MTASK_FAIL_FAST);
    post(&group, wait_at_gate, NULL);
    post(&group, fail_with, (void *)"more");
    await_word(&at_gate, 1);
    while (mtask_group_pending(&group) > 1)
        testing_pause(1);
    ck_assert_status(mtask_group_post(&group, count_one, &ran), MTASK_CANCELED);
    ck_assert_status(mtask_group_submit(&group, count_one, &ran, &future), MTASK_CANCELED);
    ck_assert_uint_eq(mtask_group_pending(&group), 1);
    mtask_event_set(&gate);
    check_failure(&group, MTASK_NOT_FOUND, "no more");
    post(&group, count_one, &ran);
    wait_ok(&group);
    ck_assert_uint_eq(mtask_word_load(&ran), 1);
    post(&group, fail_with, (void *)"less"); /* it still fails fast */
    while (mtask_group_pending(&group) > 0)
        testing_pause(1);
    ck_assert_status(mtask_group_post(&group, count_one, &ran), MTASK_CANCELED);
    check_failure(&group, MTASK_NOT_FOUND, "no less");
    end_pool(pool);
}
END_TEST

START_TEST(fail_fast_lets_running_tasks_end) {
    mtask_pool *pool = open_pool(2);
    mtask_future *running;
    mtask_group group;
    init(&group, pool, MTASK_FAIL_FAST);
    running = submit(&group, wait_at_gate, &gate);
    await_word(&at_gate, 1);
    post(&group, fail_with, (void *)"hurry");
    ck_assert_status(mtask_group_wait(&group, NULL, MTASK_MS(5)), MTASK_TIMEOUT);
    ck_assert(mtask_future_running(running));
    mtask_event_set(&gate);
    check_failure(&group, MTASK_NOT_FOUND, "no hurry");
    ck_assert_status(mtask_future_get(running, NULL, MTASK_NOWAIT), MTASK_OK);
    mtask_future_release(running);
    end_pool(pool);
}
END_TEST

START_TEST(a_group_that_fails_fast_leaves_other_groups_alone) {
    mtask_pool *pool = make_held();
    mtask_word ran = 0;
    mtask_group fast, slow;
    init(&fast, pool, MTASK_FAIL_FAST);
    init(&slow, pool, 0);
    for (int i = 0; i < 10; i++) {
        post(&slow, count_one, &ran);
        post(&fast, i == 3 ? fail_with : count_one, i == 3 ? (void *)"all" : (void *)&ran);
    }
    mtask_event_set(&gate);
    check_failure(&fast, MTASK_NOT_FOUND, "no all");
    wait_ok(&slow);
    ck_assert_uint_eq(mtask_word_load(&ran), 13);
    end_pool(pool);
}
END_TEST

START_TEST(success_is_as_fast_with_fail_fast) {
    mtask_pool *pool = open_pool(2);
    mtask_word ran = 0;
    mtask_group group;
    init(&group, pool, MTASK_FAIL_FAST);
    for (int i = 0; i < 200; i++)
        post(&group, count_one, &ran);
    wait_ok(&group);
    ck_assert_uint_eq(mtask_word_load(&ran), 200);
    end_pool(pool);
}
END_TEST

/* ---- cancelling ---- */

START_TEST(a_cancelled_group_runs_nothing_more) {
    mtask_pool *pool = make_held();
    mtask_word ran = 0;
    mtask_future *future, *refused = NULL, *outside = NULL;
    mtask_outcome outcome;
    mtask_group group;
    init(&group, pool, 0);
    for (int i = 0; i < 5; i++)
        post(&group, count_one, &ran);
    future = submit(&group, count_one, &ran);
    ck_assert_status(mtask_pool_submit(pool, return_arg, NULL, &outside), MTASK_OK);
    ck_assert_status(mtask_group_cancel(&group), MTASK_OK);
    ck_assert(mtask_future_canceled(future));
    ck_assert_uint_eq(mtask_group_pending(&group), 0);
    ck_assert_uint_eq(stats_of(pool).pending, 1); /* they were taken out */
    ck_assert_status(mtask_group_post(&group, count_one, &ran), MTASK_CANCELED);
    ck_assert_status(mtask_group_submit(&group, count_one, &ran, &refused), MTASK_CANCELED);
    ck_assert_status(mtask_group_cancel(&group), MTASK_OK);
    ck_assert_status(mtask_group_wait(&group, &outcome, MTASK_FOREVER), MTASK_CANCELED);
    ck_assert_uint_eq(mtask_group_pending(&group), 0);
    mtask_event_set(&gate);
    ck_assert_status(mtask_future_get(outside, NULL, MTASK_FOREVER), MTASK_OK);
    ck_assert_uint_eq(mtask_word_load(&ran), 0);
    mtask_future_release(future);
    mtask_future_release(outside);
    end_pool(pool);
}
END_TEST

START_TEST(a_cancelled_group_waits_for_what_runs) {
    mtask_pool *pool = open_pool(1);
    mtask_future *running;
    mtask_group group;
    init(&group, pool, 0);
    running = submit(&group, wait_at_gate, &gate);
    await_word(&at_gate, 1);
    post(&group, return_arg, NULL);
    ck_assert_status(mtask_group_cancel(&group), MTASK_OK);
    ck_assert_uint_eq(mtask_group_pending(&group), 1);
    ck_assert_status(mtask_group_wait(&group, NULL, MTASK_MS(2)), MTASK_TIMEOUT);
    mtask_event_set(&gate);
    ck_assert_status(mtask_group_wait(&group, NULL, MTASK_FOREVER), MTASK_CANCELED);
    ck_assert_status(mtask_future_get(running, NULL, MTASK_NOWAIT), MTASK_OK);
    mtask_future_release(running);
    end_pool(pool);
}
END_TEST

START_TEST(a_failure_is_told_before_a_cancellation) {
    mtask_pool *pool = open_pool(1);
    mtask_group group;
    init(&group, pool, 0);
    post(&group, fail_at_gate, (void *)"hope");
    await_word(&at_gate, 1);
    post(&group, return_arg, NULL);
    ck_assert_status(mtask_group_cancel(&group), MTASK_OK);
    mtask_event_set(&gate);
    check_failure(&group, MTASK_NOT_FOUND, "no hope");
    end_pool(pool);
}
END_TEST

START_TEST(one_cancelled_task_is_told_too) {
    mtask_pool *pool = make_held();
    mtask_word ran = 0;
    mtask_future *future;
    mtask_group group;
    init(&group, pool, MTASK_FAIL_FAST);
    post(&group, count_one, &ran);
    future = submit(&group, count_one, &ran);
    post(&group, count_one, &ran);
    ck_assert_status(mtask_future_cancel(future), MTASK_OK);
    ck_assert_uint_eq(mtask_group_pending(&group), 2);
    mtask_event_set(&gate);
    ck_assert_status(mtask_group_wait(&group, NULL, MTASK_FOREVER), MTASK_CANCELED);
    ck_assert_uint_eq(mtask_word_load(&ran), 2); /* that is no failure */
    mtask_future_release(future);
    wait_ok(&group);
    end_pool(pool);
}
END_TEST

START_TEST(cancelling_the_last_task_wakes_who_waits) {
    mtask_pool *pool = make_held();
    mtask_future *future;
    testing_crowd crowd;
    mtask_group group;
    init(&group, pool, 0);
    future = submit(&group, return_arg, NULL);
    testing_crowd_start(&crowd, 1, wait_forever, &group);
    testing_await_asleep(&crowd.members[0]);
    ck_assert_status(mtask_future_cancel(future), MTASK_OK);
    testing_crowd_join(&crowd);
    ck_assert_status(crowd.members[0].status, MTASK_CANCELED);
    mtask_future_release(future);
    mtask_event_set(&gate);
    end_pool(pool);
}
END_TEST

START_TEST(cancelling_the_group_wakes_who_waits) {
    mtask_pool *pool = make_held();
    testing_crowd crowd;
    mtask_group group;
    init(&group, pool, 0);
    for (int i = 0; i < 10; i++)
        post(&group, return_arg, NULL);
    testing_crowd_start(&crowd, 1, wait_for_a_minute, &group);
    testing_await_asleep(&crowd.members[0]);
    ck_assert_status(mtask_group_cancel(&group), MTASK_OK);
    testing_crowd_join(&crowd);
    ck_assert_status(crowd.members[0].status, MTASK_CANCELED);
    mtask_event_set(&gate);
    end_pool(pool);
}
END_TEST

static void *cancel_group(void *arg) {
    mtask_group *group = (mtask_group *)arg;
    ck_assert_status(mtask_group_cancel(group), MTASK_OK);
    ck_assert_status(mtask_group_post(group, return_arg, NULL), MTASK_CANCELED);
    return NULL;
}

START_TEST(a_task_may_cancel_its_group) {
    mtask_pool *pool = make_held();
    mtask_word ran = 0;
    mtask_group group;
    init(&group, pool, 0);
    post(&group, count_one, &ran);
    post(&group, cancel_group, &group);
    post(&group, count_one, &ran);
    mtask_event_set(&gate);
    ck_assert_status(mtask_group_wait(&group, NULL, MTASK_FOREVER), MTASK_CANCELED);
    ck_assert_uint_eq(mtask_word_load(&ran), 1);
    end_pool(pool);
}
END_TEST

START_TEST(cancelling_a_group_makes_room_in_a_full_backlog) {
    mtask_pool_desc desc = {.workers = 1, .backlog = 3, .reject = true};
    mtask_pool *pool = make(&desc);
    mtask_group group;
    init(&group, pool, 0);
    ck_assert_status(mtask_pool_post(pool, wait_at_gate, NULL), MTASK_OK);
    await_word(&at_gate, 1);
    for (int i = 0; i < 3; i++)
        post(&group, return_arg, NULL);
    ck_assert_status(mtask_group_post(&group, return_arg, NULL), MTASK_FULL);
    ck_assert_uint_eq(mtask_group_pending(&group), 3); /* without the one that was refused */
    ck_assert_status(mtask_pool_post(pool, return_arg, NULL), MTASK_FULL);
    ck_assert_status(mtask_group_cancel(&group), MTASK_OK);
    for (int i = 0; i < 3; i++)
        ck_assert_status(mtask_pool_post(pool, return_arg, NULL), MTASK_OK);
    ck_assert_status(mtask_pool_post(pool, return_arg, NULL), MTASK_FULL);
    mtask_event_set(&gate);
    ck_assert_status(mtask_group_wait(&group, NULL, MTASK_FOREVER), MTASK_CANCELED);
    end_pool(pool);
}
END_TEST

static void post_to_group(testing_member *self) {
    self->status = mtask_group_post((mtask_group *)self->arg, return_arg, NULL);
}

/* There is room then, but no place in the group any more. */
START_TEST(cancelling_a_group_turns_away_who_waits_for_room) {
    mtask_pool_desc desc = {.workers = 1, .backlog = 2};
    mtask_pool *pool = make(&desc);
    testing_crowd crowd;
    mtask_group group;
    init(&group, pool, 0);
    ck_assert_status(mtask_pool_post(pool, wait_at_gate, NULL), MTASK_OK);
    await_word(&at_gate, 1);
    for (int i = 0; i < 2; i++)
        post(&group, return_arg, NULL);
    testing_crowd_start(&crowd, 3, post_to_group, &group);
    testing_crowd_await_asleep(&crowd, 3);
    ck_assert_status(mtask_group_cancel(&group), MTASK_OK);
    testing_crowd_join(&crowd);
    ck_assert_int_eq(testing_crowd_count(&crowd, MTASK_CANCELED), 3);
    ck_assert_status(mtask_group_wait(&group, NULL, MTASK_FOREVER), MTASK_CANCELED);
    mtask_event_set(&gate);
    end_pool(pool);
}
END_TEST

/* ---- the end of the pool ---- */

START_TEST(close_refuses_more_and_the_rest_is_done) {
    mtask_pool *pool = make_held();
    mtask_word ran = 0;
    mtask_group group;
    init(&group, pool, 0);
    for (int i = 0; i < 5; i++)
        post(&group, count_one, &ran);
    ck_assert_status(mtask_pool_close(pool), MTASK_OK);
    ck_assert_status(mtask_group_post(&group, count_one, &ran), MTASK_CLOSED);
    ck_assert_uint_eq(mtask_group_pending(&group), 5);
    mtask_event_set(&gate);
    wait_ok(&group);
    ck_assert_uint_eq(mtask_word_load(&ran), 5);
    ck_assert_status(mtask_pool_join(pool, MTASK_FOREVER), MTASK_OK);
    wait_ok(&group);
    end_pool(pool);
}
END_TEST

START_TEST(terminate_cancels_tasks_of_groups_and_wakes_who_waits) {
    mtask_pool *pool = make_held();
    mtask_word ran = 0;
    testing_crowd crowd;
    mtask_group group;
    init(&group, pool, 0);
    for (int i = 0; i < 5; i++)
        post(&group, count_one, &ran);
    testing_crowd_start(&crowd, 1, wait_forever, &group);
    testing_await_asleep(&crowd.members[0]);
    ck_assert_status(mtask_pool_terminate(pool), MTASK_OK);
    testing_crowd_join(&crowd);
    ck_assert_status(crowd.members[0].status, MTASK_CANCELED);
    ck_assert_uint_eq(mtask_group_pending(&group), 0);
    ck_assert_status(mtask_group_post(&group, count_one, &ran), MTASK_CLOSED);
    mtask_event_set(&gate);
    end_pool(pool);
    ck_assert_uint_eq(mtask_word_load(&ran), 0);
}
END_TEST

static mtask_event start_init;

static void *fail_to_begin(void *arg) {
    (void)arg;
    ck_assert_status(mtask_event_wait(&start_init, MTASK_FOREVER), MTASK_OK);
    return mtask_fail(MTASK_AUTH, "no licence");
}

START_TEST(a_pool_that_breaks_fails_its_groups) {
    mtask_pool_desc desc = {.workers = 2, .init = fail_to_begin};
    mtask_pool *pool = make(&desc);
    mtask_outcome outcome;
    mtask_group group;
    init(&group, pool, 0);
    for (int i = 0; i < 5; i++)
        post(&group, return_arg, NULL);
    mtask_event_set(&start_init);
    ck_assert_status(mtask_group_wait(&group, &outcome, MTASK_FOREVER), MTASK_FAILED);
    ck_assert_str_eq(outcome.text, "no licence");
    ck_assert_uint_eq(mtask_group_pending(&group), 0);
    while (mtask_group_post(&group, return_arg, NULL) != MTASK_BROKEN)
        testing_pause(1);
    end_pool(pool);
}
END_TEST

/* ---- used again, freed at once ---- */

START_TEST(a_group_can_be_used_again_after_each_wait) {
    mtask_pool *pool = open_pool(2);
    mtask_word ran = 0, expected = 0;
    mtask_group group;
    init(&group, pool, 0);
    for (int round = 0; round < 300; round++) {
        for (int i = 0; i < round % 7; i++, expected++)
            post(&group, count_one, &ran);
        if (round % 5 == 0) {
            post(&group, fail_with, (void *)"round");
            check_failure(&group, MTASK_NOT_FOUND, "no round");
        } else {
            wait_ok(&group);
        }
        ck_assert_uint_eq(mtask_word_load(&ran), expected);
    }
    end_pool(pool);
}
END_TEST

START_TEST(a_cancelled_group_can_be_used_again_after_a_wait) {
    mtask_pool *pool = open_pool(2);
    mtask_word ran = 0;
    mtask_group group;
    init(&group, pool, 0);
    for (mtask_word round = 0; round < 50; round++) {
        ck_assert_status(mtask_group_cancel(&group), MTASK_OK);
        ck_assert_status(mtask_group_post(&group, count_one, &ran), MTASK_CANCELED);
        (void)mtask_group_wait(&group, NULL, MTASK_FOREVER); /* nothing was cancelled, or was it */
        post(&group, count_one, &ran);
        wait_ok(&group);
        ck_assert_uint_eq(mtask_word_load(&ran), round + 1);
    }
    end_pool(pool);
}
END_TEST

/* Tasks of many lengths, up to that of going to sleep. */
static void *spin(void *arg) {
    for (volatile uintptr_t left = (uintptr_t)arg >> 1; left > 0; left--) {
    }
    return ((uintptr_t)arg & 1) != 0 ? mtask_fail(MTASK_BROKEN, "odd") : NULL;
}

/* Fills a group that lies in memory of its own with a few tasks; one in eight fails. */
static mtask_group *make_short(mtask_pool *pool, testing_random *random) {
    mtask_group *group = (mtask_group *)malloc(sizeof *group);
    int flags = testing_below(random, 2) == 0 ? MTASK_FAIL_FAST : 0;
    ck_assert_ptr_nonnull(group);
    init(group, pool, flags);
    for (uint64_t i = 1 + testing_below(random, 3); i > 0; i--) {
        uint64_t arg = testing_below(random, 2000) << 1 | (testing_below(random, 8) == 0);
        mtask_status status = mtask_group_post(group, spin, (void *)(uintptr_t)arg);
        testing_check(status == MTASK_OK || (status == MTASK_CANCELED && flags != 0));
    }
    return group;
}

static void free_group(mtask_group *group) {
    memset(group, 0xa5, sizeof *group);
    free(group);
}

START_TEST(a_group_can_be_freed_as_soon_as_wait_returns) {
    mtask_pool *pool = open_pool(2);
    testing_random random = testing_random_make(testing_seed(), 0);
    int64_t start = mtask_now();
    for (long round = 0; round < testing_scale(60000) && testing_has_time(start); round++) {
        mtask_group *group = make_short(pool, &random);
        mtask_status status;
        testing_dawdle(&random, testing_below(&random, 4) == 0 ? 4000 : 64);
        status = mtask_group_wait(group, NULL, MTASK_FOREVER);
        testing_check(status == MTASK_OK || status == MTASK_FAILED);
        free_group(group);
    }
    end_pool(pool);
}
END_TEST

/* The wait may find that all have ended while the last of them is about to wake it. */
START_TEST(a_group_can_be_freed_when_a_short_wait_returns) {
    mtask_pool *pool = open_pool(2);
    testing_random random = testing_random_make(testing_seed(), 0);
    int64_t start = mtask_now();
    for (long round = 0; round < testing_scale(60000) && testing_has_time(start); round++) {
        mtask_group *group = make_short(pool, &random);
        mtask_status status;
        do
            status = mtask_group_wait(group, NULL, (int64_t)testing_below(&random, 2000));
        while (status == MTASK_TIMEOUT);
        testing_check(status == MTASK_OK || status == MTASK_FAILED);
        free_group(group);
    }
    end_pool(pool);
}
END_TEST

START_TEST(a_group_on_the_stack_of_a_short_function_is_enough) {
    mtask_pool *pool = open_pool(2);
    mtask_word ran = 0;
    for (int round = 0; round < 200; round++) {
        mtask_group groups[3];
        for (int i = 0; i < 3; i++) {
            init(&groups[i], pool, 0);
            post(&groups[i], count_one, &ran);
        }
        for (int i = 2; i >= 0; i--)
            wait_ok(&groups[i]);
    }
    end_pool(pool);
    ck_assert_uint_eq(mtask_word_load(&ran), 600);
}
END_TEST

/* ---- tasks that add tasks, tasks that wait ---- */

/* A task that adds `depth` levels of two tasks each to its own group. */
typedef struct sprout {
    mtask_group *group;
    int depth;
    mtask_word *ran;
} sprout;

static void *grow(void *arg) {
    sprout *s = (sprout *)arg;
    mtask_word_add(s->ran, 1);
    for (int i = 0; i < 2 && s->depth > 0; i++) {
        sprout *child = (sprout *)malloc(sizeof *child);
        testing_check(child != NULL);
        *child = *s;
        child->depth--;
        ck_assert_status(mtask_group_post(s->group, grow, child), MTASK_OK);
    }
    free(s);
    return NULL;
}

START_TEST(tasks_of_a_group_may_add_others) {
    for (unsigned workers = 1; workers <= 3; workers++) {
        mtask_pool *pool = open_pool(workers);
        mtask_word ran = 0;
        mtask_group group;
        sprout *root = (sprout *)malloc(sizeof *root);
        ck_assert_ptr_nonnull(root);
        init(&group, pool, 0);
        *root = (sprout){.group = &group, .depth = 9, .ran = &ran};
        post(&group, grow, root);
        wait_ok(&group);
        ck_assert_uint_eq(mtask_word_load(&ran), 1023);
        end_pool(pool);
    }
}
END_TEST

/* A group made in a task, of tasks of the same pool. */
static void *use_own_group(void *arg) {
    mtask_word ran = 0;
    mtask_group group;
    init(&group, mtask_pool_current(), 0);
    for (int i = 0; i < 20; i++)
        post(&group, count_one, &ran);
    wait_ok(&group);
    ck_assert_uint_eq(mtask_word_load(&ran), 20);
    return arg;
}

START_TEST(the_only_worker_may_wait_for_a_group) {
    for (unsigned workers = 1; workers <= 2; workers++) {
        mtask_pool *pool = open_pool(workers);
        for (int i = 0; i < 50; i++)
            ck_assert_ptr_eq(run_in(pool, use_own_group, pool), pool);
        end_pool(pool);
    }
}
END_TEST

static void *use_failing_group(void *arg) {
    mtask_word ran = 0;
    mtask_group group;
    init(&group, mtask_pool_current(), MTASK_FAIL_FAST);
    post(&group, count_one, &ran);
    post(&group, fail_with, (void *)"child");
    for (int i = 0; i < 5; i++)
        (void)mtask_group_post(&group, count_one, &ran);
    check_failure(&group, MTASK_NOT_FOUND, "no child");
    testing_check(mtask_failure(NULL) == MTASK_OK); /* the child failed, not this task */
    return arg;
}

START_TEST(the_only_worker_learns_how_its_group_failed) {
    mtask_pool *pool = open_pool(1);
    for (int i = 0; i < 20; i++)
        ck_assert_ptr_eq(run_in(pool, use_failing_group, pool), pool);
    end_pool(pool);
}
END_TEST

static void *wait_for_own_group_in_time(void *arg) {
    mtask_word ran = 0;
    mtask_status status;
    mtask_group group;
    init(&group, mtask_pool_current(), 0);
    for (int i = 0; i < 5; i++)
        post(&group, count_one, &ran);
    status = mtask_group_wait(&group, NULL, MTASK_SEC(60));
    ck_assert_status(status, MTASK_OK);
    ck_assert_uint_eq(mtask_word_load(&ran), 5);
    return arg;
}

START_TEST(the_only_worker_may_wait_for_a_group_with_a_timeout) {
    mtask_pool *pool = open_pool(1);
    for (int i = 0; i < 10; i++)
        ck_assert_ptr_eq(run_in(pool, wait_for_own_group_in_time, pool), pool);
    end_pool(pool);
}
END_TEST

/* Each task waits for a group of two more, some levels deep, in a pool of one worker. */
static void *nest_groups(void *arg) {
    uintptr_t depth = (uintptr_t)arg;
    mtask_group group;
    if (depth == 0)
        return NULL;
    init(&group, mtask_pool_current(), 0);
    for (int i = 0; i < 2; i++)
        post(&group, nest_groups, (void *)(depth - 1));
    wait_ok(&group);
    return NULL;
}

START_TEST(groups_may_be_waited_for_inside_groups) {
    for (unsigned workers = 1; workers <= 2; workers++) {
        mtask_pool *pool = open_pool(workers);
        (void)run_in(pool, nest_groups, (void *)(uintptr_t)5);
        end_pool(pool);
    }
}
END_TEST

static void *wait_for_own(void *arg) {
    return (void *)(uintptr_t)mtask_group_wait((mtask_group *)arg, NULL, MTASK_FOREVER);
}

/* The wait would never end: the task itself is one of those that it waits for. */
START_TEST(a_task_cannot_wait_for_its_own_group) {
    mtask_pool *pool = open_pool(2);
    mtask_future *future;
    mtask_outcome outcome;
    mtask_group group;
    init(&group, pool, 0);
    future = submit(&group, wait_for_own, &group);
    ck_assert_status(mtask_future_get(future, &outcome, MTASK_FOREVER), MTASK_OK);
    ck_assert_uint_eq((uintptr_t)outcome.value, MTASK_DEADLOCK);
    wait_ok(&group);
    mtask_future_release(future);
    end_pool(pool);
}
END_TEST

/* ---- many at once ---- */

typedef struct fair {
    mtask_pool *pool;
    uint64_t seed;
    long rounds;
} fair;

/* Fills groups of its own, cancels some, waits for all. */
static void run_stall(testing_member *self) {
    fair *f = (fair *)self->arg;
    testing_random random = testing_random_make(f->seed, (unsigned)self->index);
    for (long round = 0; round < f->rounds; round++) {
        mtask_word ran = 0, taken = 0;
        bool cancel = testing_below(&random, 4) == 0;
        mtask_status status;
        mtask_group group;
        init(&group, f->pool, testing_below(&random, 2) == 0 ? MTASK_FAIL_FAST : 0);
        for (uint64_t i = testing_below(&random, 20); i > 0; i--)
            taken += mtask_group_post(&group, count_one, &ran) == MTASK_OK;
        if (cancel)
            ck_assert_status(mtask_group_cancel(&group), MTASK_OK);
        status = mtask_group_wait(&group, NULL, MTASK_FOREVER);
        testing_check(mtask_word_load(&ran) <= taken);
        testing_check(cancel || (status == MTASK_OK && mtask_word_load(&ran) == taken));
        testing_check(status == MTASK_OK || status == MTASK_CANCELED);
        testing_check(mtask_word_load(&ran) == taken || status == MTASK_CANCELED);
    }
}

START_TEST(many_threads_may_use_groups_of_one_pool) {
    fair f = {.pool = open_pool(2), .rounds = testing_scale(2000)};
    testing_crowd crowd;
    f.seed = testing_seed();
    testing_crowd_start(&crowd, 4, run_stall, &f);
    testing_crowd_join(&crowd);
    end_pool(f.pool);
}
END_TEST

/* One adds tasks to a group while others cancel it and wait for it. */
typedef struct crossing {
    mtask_group group;
    mtask_word ran;
    mtask_word taken;
    mtask_word turned_away;
} crossing;

static void add_tasks(testing_member *self) {
    crossing *c = (crossing *)self->arg;
    for (int i = 0; i < 40; i++) {
        mtask_status status = mtask_group_post(&c->group, count_one, &c->ran);
        testing_check(status == MTASK_OK || status == MTASK_CANCELED);
        mtask_word_add(status == MTASK_OK ? &c->taken : &c->turned_away, 1);
    }
}

static void cancel_tasks(testing_member *self) {
    crossing *c = (crossing *)self->arg;
    testing_dawdle(&(testing_random){(uint64_t)self->thread | 1}, 20000);
    ck_assert_status(mtask_group_cancel(&c->group), MTASK_OK);
}

START_TEST(a_group_may_be_cancelled_while_tasks_are_added) {
    mtask_pool *pool = open_pool(2);
    for (long round = 0; round < testing_scale(300); round++) {
        crossing c = {.ran = 0};
        testing_crowd crowd;
        mtask_status status;
        mtask_pool_stats before = stats_of(pool), after;
        init(&c.group, pool, 0);
        testing_crowd_start(&crowd, 2, add_tasks, &c);
        (void)testing_crowd_add(&crowd, cancel_tasks, &c);
        testing_crowd_join(&crowd);
        status = mtask_group_wait(&c.group, NULL, MTASK_FOREVER);
        after = stats_of(pool);
        ck_assert_uint_eq(after.submitted - before.submitted, c.taken);
        ck_assert_uint_eq(after.canceled - before.canceled, c.taken - mtask_word_load(&c.ran));
        if (mtask_word_load(&c.ran) < c.taken)
            ck_assert_status(status, MTASK_CANCELED);
    }
    end_pool(pool);
}
END_TEST

/* Tasks with callbacks; somebody cancels them one by one. */
typedef struct volley {
    mtask_future *futures[32];
    mtask_word called;
} volley;

static void slow_failure(const mtask_outcome *outcome, void *ctx) {
    (void)outcome;
    testing_dawdle(&(testing_random){(uint64_t)(uintptr_t)outcome | 1}, 2000);
    mtask_word_add((mtask_word *)ctx, 1);
}

static void cancel_volley(testing_member *self) {
    volley *v = (volley *)self->arg;
    for (int i = 0; i < 32; i++)
        (void)mtask_future_cancel(v->futures[self->index == 0 ? i : 31 - i]);
}

START_TEST(callbacks_have_returned_when_wait_does) {
    mtask_pool *pool = open_pool(2);
    for (long round = 0; round < testing_scale(500); round++) {
        volley v = {.called = 0};
        testing_crowd crowd;
        mtask_group group;
        mtask_task_desc task = {.fn = return_arg,
                                .group = &group,
                                .on_success = count_success,
                                .on_failure = slow_failure,
                                .ctx = &v.called};
        init(&group, pool, 0);
        for (int i = 0; i < 32; i++)
            ck_assert_status(mtask_pool_submit_ex(pool, &task, &v.futures[i], MTASK_FOREVER),
                             MTASK_OK);
        testing_crowd_start(&crowd, 2, cancel_volley, &v);
        (void)mtask_group_wait(&group, NULL, MTASK_FOREVER);
        ck_assert_uint_eq(mtask_word_load(&v.called), 32);
        testing_crowd_join(&crowd);
        for (int i = 0; i < 32; i++)
            mtask_future_release(v.futures[i]);
    }
    end_pool(pool);
}
END_TEST

TESTING_MAIN(
    "group", an_empty_group_has_nothing_to_wait_for,
    unknown_flags_and_missing_functions_are_refused, wait_returns_when_all_tasks_have_ended,
    a_group_waits_for_its_own_tasks_only, pending_counts_what_has_not_ended,
    tasks_of_a_group_have_futures_too, futures_of_a_group_outlive_it,
    a_described_task_may_belong_to_a_group, a_group_without_a_pool_uses_the_default_pool,
    a_wait_with_a_timeout_takes_its_time, a_wait_that_timed_out_loses_no_failure,
    a_waiter_sleeps_until_the_last_task_ends, several_may_wait_for_a_group,
    another_task_may_wait_for_a_group, the_first_failure_in_time_is_told,
    a_failure_does_not_stop_the_others, the_outcome_may_be_left_out,
    one_worker_tells_the_failure_that_was_submitted_first, a_long_text_is_cut,
    fail_fast_cancels_what_has_not_started, fail_fast_refuses_more_until_it_was_waited_for,
    fail_fast_lets_running_tasks_end, a_group_that_fails_fast_leaves_other_groups_alone,
    success_is_as_fast_with_fail_fast, a_cancelled_group_runs_nothing_more,
    a_cancelled_group_waits_for_what_runs, a_failure_is_told_before_a_cancellation,
    one_cancelled_task_is_told_too, cancelling_the_last_task_wakes_who_waits,
    cancelling_the_group_wakes_who_waits, a_task_may_cancel_its_group,
    cancelling_a_group_makes_room_in_a_full_backlog,
    cancelling_a_group_turns_away_who_waits_for_room, close_refuses_more_and_the_rest_is_done,
    terminate_cancels_tasks_of_groups_and_wakes_who_waits, a_pool_that_breaks_fails_its_groups,
    a_group_can_be_used_again_after_each_wait, a_cancelled_group_can_be_used_again_after_a_wait,
    a_group_can_be_freed_as_soon_as_wait_returns, a_group_can_be_freed_when_a_short_wait_returns,
    a_group_on_the_stack_of_a_short_function_is_enough, tasks_of_a_group_may_add_others,
    the_only_worker_may_wait_for_a_group, the_only_worker_learns_how_its_group_failed,
    the_only_worker_may_wait_for_a_group_with_a_timeout, groups_may_be_waited_for_inside_groups,
    a_task_cannot_wait_for_its_own_group, many_threads_may_use_groups_of_one_pool,
    a_group_may_be_cancelled_while_tasks_are_added, callbacks_have_returned_when_wait_does)
