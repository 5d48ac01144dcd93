/* test_mtask_taskgroup.c - groups of tasks, which end before the block that began them does, and
   what is built on them: gather */
#include "testing_coro.h"

/* Longer than any test takes: what ends such a wait is not the time. */
#define LONG MTASK_SEC(100000)

#define COUNT_OF(array) ((long)(sizeof(array) / sizeof(array)[0]))

/* What the tasks of a group and its owner share. */
typedef struct family {
    mtask_taskgroup group;
    mtask_event event;
    mtask_future *future; /* of a task that is to be cancelled */
    long begun;
    long ended;
    long left; /* how many more tasks are to be added */
    long told; /* how many were told of a cancellation */
} family;

static void begin(mtask_taskgroup *group) {
    memset(group, 0xA5, sizeof *group); /* it need not be zeroed */
    ck_assert_status(mtask_taskgroup_begin(group), MTASK_OK);
    ck_assert_uint_eq(mtask_taskgroup_pending(group), 0);
}

static void add(mtask_taskgroup *group, mtask_fn fn, void *arg) {
    ck_assert_status(mtask_taskgroup_go(group, fn, arg, NULL), MTASK_OK);
}

static void end(mtask_taskgroup *group, mtask_status expected) {
    ck_assert_status(mtask_taskgroup_end(group, NULL), expected);
}

/* Ends a group of which a task has failed so. */
static void end_failed(mtask_taskgroup *group, mtask_status status, const char *text) {
    mtask_outcome outcome;
    memset(&outcome, 0xA5, sizeof outcome);
    ck_assert_status(mtask_taskgroup_end(group, &outcome), MTASK_FAILED);
    ck_assert_status(outcome.status, status);
    ck_assert_ptr_null(outcome.value);
    ck_assert_str_eq(outcome.text, text);
}

/* After its groups and limits have ended, the task is as before. */
static void check_unharmed(void) {
    ck_assert(!mtask_canceled());
    ck_assert_status(mtask_sleep(MTASK_US(50)), MTASK_OK);
}

/* ---- what the tests run as tasks ---- */

static void *return_arg(void *arg) {
    return arg;
}

static void *nap(void *arg) {
    family *all = (family *)arg;
    all->begun++;
    ck_assert_status(mtask_sleep(MTASK_US(200)), MTASK_OK);
    all->ended++;
    return arg;
}

static void *sleep_long(void *arg) {
    family *all = (family *)arg;
    all->begun++;
    ck_assert_status(mtask_sleep(LONG), MTASK_CANCELED);
    all->ended++;
    return arg;
}

static void *clean_up_slowly(void *arg) {
    family *all = (family *)arg;
    all->begun++;
    ck_assert_status(mtask_sleep(LONG), MTASK_CANCELED);
    mtask_shield_begin();
    for (int i = 0; i < 3; i++)
        ck_assert_status(mtask_sleep(MTASK_US(100)), MTASK_OK);
    mtask_shield_end();
    all->ended++;
    return arg;
}

static void *fail_at_once(void *arg) {
    ((family *)arg)->begun++;
    return mtask_fail(MTASK_NOT_FOUND, "nothing there");
}

static void *fail_soon(void *arg) {
    ck_assert_status(mtask_sleep(MTASK_US(200)), MTASK_OK);
    return fail_at_once(arg);
}

static void *fail_when_cancelled(void *arg) {
    ((family *)arg)->begun++;
    ck_assert_status(mtask_sleep(LONG), MTASK_CANCELED);
    return mtask_fail(MTASK_BROKEN, "clean-up failed");
}

static void *give_up(void *arg) {
    ((family *)arg)->begun++;
    return mtask_fail(MTASK_CANCELED, "enough");
}

/* ---- the end of a group ---- */

static void *end_after_children(void *arg) {
    family *all = (family *)arg;
    begin(&all->group);
    for (int i = 0; i < 3; i++)
        add(&all->group, nap, all);
    ck_assert_uint_eq(mtask_taskgroup_pending(&all->group), 3);
    ck_assert_int_eq(all->begun, 0);
    end(&all->group, MTASK_OK);
    ck_assert_uint_eq(mtask_taskgroup_pending(&all->group), 0);
    ck_assert_int_eq(all->ended, 3);
    check_unharmed();
    return arg;
}

START_TEST(a_group_ends_after_its_tasks) {
    family all = {.begun = 0};
    (void)in_loop(end_after_children, &all);
}
END_TEST

static void *end_without_children(void *arg) {
    mtask_taskgroup group;
    mtask_outcome outcome;
    begin(&group);
    end(&group, MTASK_OK);
    begin(&group); /* its last task has ended before */
    add(&group, return_arg, NULL);
    ck_assert_status(mtask_sleep(MTASK_US(50)), MTASK_OK);
    ck_assert_uint_eq(mtask_taskgroup_pending(&group), 0);
    ck_assert_status(mtask_taskgroup_end(&group, &outcome), MTASK_OK);
    check_unharmed();
    return arg;
}

START_TEST(a_group_may_be_empty) {
    (void)in_loop(end_without_children, NULL);
}
END_TEST

static void *take_results(void *arg) {
    mtask_taskgroup group;
    mtask_future *futures[5];
    begin(&group);
    for (long i = 0; i < 5; i++)
        ck_assert_status(mtask_taskgroup_go(&group, return_arg, (void *)i, &futures[i]), MTASK_OK);
    ck_assert_ptr_eq(take(futures[0]), (void *)0);
    end(&group, MTASK_OK);
    for (long i = 1; i < 5; i++) {
        ck_assert(mtask_future_done(futures[i]));
        ck_assert_ptr_eq(take(futures[i]), (void *)i);
    }
    return arg;
}

START_TEST(tasks_of_a_group_have_futures) {
    (void)in_loop(take_results, NULL);
}
END_TEST

/* Each adds two more, until there are enough. */
static void *multiply(void *arg) {
    family *all = (family *)arg;
    all->begun++;
    for (int i = 0; i < 2 && all->left > 0; i++) {
        all->left--;
        add(&all->group, multiply, all);
    }
    ck_assert_status(mtask_sleep(MTASK_US(50)), MTASK_OK);
    all->ended++;
    return arg;
}

static void *let_them_multiply(void *arg) {
    family *all = (family *)arg;
    all->left = 100;
    begin(&all->group);
    add(&all->group, multiply, all);
    end(&all->group, MTASK_OK);
    ck_assert_int_eq(all->begun, 101);
    ck_assert_int_eq(all->ended, 101);
    return arg;
}

START_TEST(tasks_of_a_group_may_add_others) {
    family all = {.begun = 0};
    (void)in_loop(let_them_multiply, &all);
}
END_TEST

/* ---- failure ---- */

static void *fail_among_sleepers(void *arg) {
    family *all = (family *)arg;
    begin(&all->group);
    for (int i = 0; i < 3; i++)
        add(&all->group, i == 1 ? fail_soon : clean_up_slowly, all);
    end_failed(&all->group, MTASK_NOT_FOUND, "nothing there");
    ck_assert_int_eq(all->begun, 3);
    ck_assert_int_eq(all->ended, 2); /* when they had cleaned up */
    check_unharmed();
    return arg;
}

START_TEST(the_first_failure_cancels_the_others) {
    family all = {.begun = 0};
    (void)in_loop(fail_among_sleepers, &all);
}
END_TEST

static void *fail_twice(void *arg) {
    family *all = (family *)arg;
    begin(&all->group);
    add(&all->group, fail_when_cancelled, all);
    add(&all->group, fail_soon, all);
    add(&all->group, fail_when_cancelled, all);
    end_failed(&all->group, MTASK_NOT_FOUND, "nothing there");
    begin(&all->group);
    add(&all->group, fail_when_cancelled, all);
    add(&all->group, fail_soon, all);
    end(&all->group, MTASK_FAILED); /* nobody asks which */
    check_unharmed();
    return arg;
}

START_TEST(the_outcome_tells_of_the_first_failure) {
    family all = {.begun = 0};
    (void)in_loop(fail_twice, &all);
}
END_TEST

/* The body of the block is cut short, and stays so until the end. */
static void *fail_while_the_owner_waits(void *arg) {
    family *all = (family *)arg;
    begin(&all->group);
    add(&all->group, fail_soon, all);
    ck_assert_status(mtask_event_wait(&all->event, MTASK_FOREVER), MTASK_CANCELED);
    ck_assert(mtask_canceled());
    for (int i = 0; i < 3; i++)
        ck_assert_status(mtask_sleep(LONG), MTASK_CANCELED);
    ck_assert_status(mtask_taskgroup_go(&all->group, nap, all, NULL), MTASK_CANCELED);
    end_failed(&all->group, MTASK_NOT_FOUND, "nothing there");
    ck_assert_int_eq(all->begun, 1);
    check_unharmed();
    return arg;
}

START_TEST(a_failure_cuts_the_owners_waits_short) {
    family all = {.begun = 0};
    (void)in_loop(fail_while_the_owner_waits, &all);
}
END_TEST

static void *fail_before_others_begin(void *arg) {
    family *all = (family *)arg;
    mtask_future *future;
    begin(&all->group);
    add(&all->group, fail_at_once, all);
    ck_assert_status(mtask_taskgroup_go(&all->group, sleep_long, all, &future), MTASK_OK);
    ck_assert_uint_eq(mtask_taskgroup_pending(&all->group), 2);
    end_failed(&all->group, MTASK_NOT_FOUND, "nothing there");
    ck_assert_int_eq(all->begun, 1); /* the other one never ran */
    ck_assert(mtask_future_canceled(future));
    mtask_future_release(future);
    return arg;
}

START_TEST(what_has_not_begun_when_one_fails_never_runs) {
    family all = {.begun = 0};
    (void)in_loop(fail_before_others_begin, &all);
}
END_TEST

static void *cancel_some(void *arg) {
    family *all = (family *)arg;
    mtask_future *futures[2];
    begin(&all->group);
    ck_assert_status(mtask_taskgroup_go(&all->group, sleep_long, all, &futures[0]), MTASK_OK);
    ck_assert_status(mtask_taskgroup_go(&all->group, give_up, all, NULL), MTASK_OK);
    add(&all->group, nap, all);
    take_turns();
    ck_assert_status(mtask_taskgroup_go(&all->group, nap, all, &futures[1]), MTASK_OK);
    for (int i = 0; i < 2; i++) {
        ck_assert_status(mtask_future_cancel(futures[i]), MTASK_OK);
        mtask_future_release(futures[i]);
    }
    ck_assert_status(mtask_sleep(MTASK_US(50)), MTASK_OK);
    end(&all->group, MTASK_OK);
    ck_assert_int_eq(all->begun, 3);
    ck_assert_int_eq(all->ended, 2);
    return arg;
}

START_TEST(a_task_that_was_cancelled_has_not_failed) {
    family all = {.begun = 0};
    (void)in_loop(cancel_some, &all);
}
END_TEST

static void *fail_beside_a_stranger(void *arg) {
    family *all = (family *)arg, other = {.begun = 0};
    mtask_future *stranger = go(nap, &other);
    begin(&all->group);
    add(&all->group, fail_at_once, all);
    end_failed(&all->group, MTASK_NOT_FOUND, "nothing there");
    (void)take(stranger);
    return arg;
}

START_TEST(a_failure_is_no_concern_of_tasks_outside) {
    family all = {.begun = 0};
    (void)in_loop(fail_beside_a_stranger, &all);
}
END_TEST

static void *fail_among_many(void *arg) {
    family *all = (family *)arg;
    testing_random random = testing_random_make(testing_seed(), 0);
    for (int round = 0; round < 5; round++) {
        long many = TESTING_TSAN ? 100 : 1000, failing = (long)testing_below(&random, 1000) % many;
        all->begun = all->ended = 0;
        begin(&all->group);
        for (long i = 0; i < many; i++)
            add(&all->group, i == failing ? fail_soon : clean_up_slowly, all);
        ck_assert_uint_eq(mtask_taskgroup_pending(&all->group), (size_t)many);
        end_failed(&all->group, MTASK_NOT_FOUND, "nothing there");
        ck_assert_int_eq(all->ended, all->begun - 1); /* some may not have begun */
    }
    return arg;
}

START_TEST(one_failure_cancels_many) {
    family all = {.begun = 0};
    (void)in_loop(fail_among_many, &all);
}
END_TEST

/* ---- cancelling a group ---- */

static void *cancel_the_group(void *arg) {
    mtask_taskgroup_cancel(&((family *)arg)->group);
    return arg;
}

/* After the group was cancelled, by whomever. */
static void check_cancelled(family *all) {
    ck_assert(mtask_canceled());
    ck_assert_status(mtask_sleep(LONG), MTASK_CANCELED);
    ck_assert_status(mtask_taskgroup_go(&all->group, nap, all, NULL), MTASK_CANCELED);
    end(&all->group, MTASK_CANCELED);
    ck_assert_uint_eq(mtask_taskgroup_pending(&all->group), 0);
    check_unharmed();
}

static void *cancel_own_group(void *arg) {
    family *all = (family *)arg;
    mtask_future *future;
    begin(&all->group);
    for (int i = 0; i < 3; i++)
        add(&all->group, clean_up_slowly, all);
    take_turns();
    ck_assert_status(mtask_taskgroup_go(&all->group, nap, all, &future), MTASK_OK);
    mtask_taskgroup_cancel(&all->group);
    mtask_taskgroup_cancel(&all->group);
    check_cancelled(all);
    ck_assert(mtask_future_canceled(future)); /* it never ran */
    mtask_future_release(future);
    ck_assert_int_eq(all->begun, 3);
    ck_assert_int_eq(all->ended, 3);
    return arg;
}

START_TEST(an_owner_cancels_its_group) {
    family all = {.begun = 0};
    (void)in_loop(cancel_own_group, &all);
}
END_TEST

static void *cancel_group_and_wait(void *arg) {
    (void)cancel_the_group(arg);
    return sleep_long(arg); /* it is one of those that are cancelled */
}

static void *be_cancelled_by_a_member(void *arg) {
    family *all = (family *)arg;
    begin(&all->group);
    add(&all->group, sleep_long, all);
    add(&all->group, cancel_group_and_wait, all);
    ck_assert_status(mtask_event_wait(&all->event, LONG), MTASK_CANCELED);
    check_cancelled(all);
    ck_assert_int_eq(all->ended, 2);
    return arg;
}

START_TEST(a_task_of_the_group_cancels_it) {
    family all = {.begun = 0};
    (void)in_loop(be_cancelled_by_a_member, &all);
}
END_TEST

static void *be_cancelled_by_a_stranger(void *arg) {
    family *all = (family *)arg;
    begin(&all->group);
    add(&all->group, sleep_long, all);
    take_turns();
    ck_assert_status(mtask_go(cancel_the_group, all, NULL), MTASK_OK);
    end(&all->group, MTASK_CANCELED);
    ck_assert_int_eq(all->ended, 1);
    check_unharmed();
    return arg;
}

START_TEST(any_task_of_the_loop_cancels_a_group) {
    family all = {.begun = 0};
    (void)in_loop(be_cancelled_by_a_stranger, &all);
}
END_TEST

static void *cancel_and_fail(void *arg) {
    family *all = (family *)arg;
    begin(&all->group);
    add(&all->group, fail_when_cancelled, all);
    take_turns();
    mtask_taskgroup_cancel(&all->group);
    end_failed(&all->group, MTASK_BROKEN, "clean-up failed");
    check_unharmed();
    return arg;
}

START_TEST(a_failure_during_cancellation_is_told) {
    family all = {.begun = 0};
    (void)in_loop(cancel_and_fail, &all);
}
END_TEST

/* ---- a cancelled owner ---- */

static void *own_until_cancelled(void *arg) {
    family *all = (family *)arg;
    begin(&all->group);
    for (int i = 0; i < 3; i++)
        add(&all->group, clean_up_slowly, all);
    end(&all->group, MTASK_CANCELED);
    ck_assert_int_eq(all->ended, 3);
    ck_assert(mtask_canceled()); /* the task itself is */
    ck_assert_status(mtask_sleep(LONG), MTASK_CANCELED);
    return arg;
}

static void *own_and_wait_until_cancelled(void *arg) {
    family *all = (family *)arg;
    begin(&all->group);
    for (int i = 0; i < 3; i++)
        add(&all->group, clean_up_slowly, all);
    ck_assert_status(mtask_sleep(LONG), MTASK_CANCELED);
    ck_assert_int_eq(all->ended, 0);
    end(&all->group, MTASK_CANCELED);
    ck_assert_int_eq(all->ended, 3);
    return arg;
}

static void *own_behind_a_shield(void *arg) {
    family *all = (family *)arg;
    mtask_shield_begin();
    begin(&all->group);
    add(&all->group, nap, all);
    end(&all->group, MTASK_OK);
    mtask_shield_end();
    ck_assert_int_eq(all->ended, 1);
    ck_assert_status(mtask_sleep(LONG), MTASK_CANCELED);
    return arg;
}

static void *cancel_owners(void *arg) {
    static const mtask_fn owners[] = {own_until_cancelled, own_and_wait_until_cancelled,
                                      own_behind_a_shield};
    for (long i = 0; i < COUNT_OF(owners); i++) {
        family all = {.begun = 0};
        mtask_future *future = go(owners[i], &all);
        take_turns();
        take_turns();
        ck_assert_status(mtask_future_cancel(future), MTASK_OK);
        (void)take(future);
    }
    return arg;
}

START_TEST(a_cancelled_owner_cancels_its_tasks_and_waits_for_them) {
    (void)in_loop(cancel_owners, NULL);
}
END_TEST

static void *own_one_that_fails_when_cancelled(void *arg) {
    family *all = (family *)arg;
    begin(&all->group);
    add(&all->group, fail_when_cancelled, all);
    end_failed(&all->group, MTASK_BROKEN, "clean-up failed");
    ck_assert_status(mtask_sleep(LONG), MTASK_CANCELED);
    return arg;
}

static void *cancel_owner_of_a_failing_one(void *arg) {
    mtask_future *future = go(own_one_that_fails_when_cancelled, arg);
    take_turns();
    take_turns();
    ck_assert_status(mtask_future_cancel(future), MTASK_OK);
    return take(future);
}

START_TEST(a_failure_is_told_to_a_cancelled_owner) {
    family all = {.begun = 0};
    (void)in_loop(cancel_owner_of_a_failing_one, &all);
}
END_TEST

/* The owner was cancelled before it began the group. */
static void *own_although_cancelled(void *arg) {
    family *all = (family *)arg;
    ck_assert_status(mtask_future_cancel(all->future), MTASK_OK);
    begin(&all->group);
    add(&all->group, clean_up_slowly, all);
    ck_assert_uint_eq(mtask_taskgroup_pending(&all->group), 1);
    end(&all->group, MTASK_CANCELED);
    ck_assert_uint_eq(mtask_taskgroup_pending(&all->group), 0);
    ck_assert_int_eq(all->ended, all->begun);
    return arg;
}

static void *cancel_before_the_group(void *arg) {
    family *all = (family *)arg;
    all->future = go(own_although_cancelled, all);
    (void)take(mtask_future_retain(all->future));
    mtask_future_release(all->future);
    return arg;
}

START_TEST(a_cancelled_task_may_begin_a_group) {
    family all = {.begun = 0};
    (void)in_loop(cancel_before_the_group, &all);
}
END_TEST

static void *leave_owner_behind(void *arg) {
    ck_assert_status(mtask_go(own_until_cancelled, arg, NULL), MTASK_OK);
    take_turns();
    take_turns();
    return arg;
}

START_TEST(a_loop_that_ends_waits_for_groups) {
    family all = {.begun = 0};
    (void)in_loop(leave_owner_behind, &all);
    ck_assert_int_eq(all.ended, 3);
}
END_TEST

/* ---- groups and limits inside each other ---- */

static void *nest_groups(void *arg) {
    family outer = {.begun = 0}, inner = {.begun = 0};
    begin(&outer.group);
    add(&outer.group, nap, &outer);
    begin(&inner.group);
    add(&inner.group, sleep_long, &inner);
    add(&inner.group, fail_soon, &inner);
    end_failed(&inner.group, MTASK_NOT_FOUND, "nothing there");
    ck_assert_int_eq(inner.ended, 1);
    check_unharmed();
    end(&outer.group, MTASK_OK); /* it knows nothing of that */
    ck_assert_int_eq(outer.ended, 1);
    return arg;
}

START_TEST(a_failure_in_an_inner_group_stays_there) {
    (void)in_loop(nest_groups, NULL);
}
END_TEST

static void *fail_in_the_outer_group(void *arg) {
    family outer = {.begun = 0}, inner = {.begun = 0};
    begin(&outer.group);
    add(&outer.group, fail_soon, &outer);
    begin(&inner.group);
    add(&inner.group, clean_up_slowly, &inner);
    end(&inner.group, MTASK_CANCELED);
    ck_assert_int_eq(inner.ended, 1);
    ck_assert(mtask_canceled());
    end_failed(&outer.group, MTASK_NOT_FOUND, "nothing there");
    check_unharmed();
    return arg;
}

START_TEST(a_failure_in_the_outer_group_ends_the_inner_one) {
    (void)in_loop(fail_in_the_outer_group, NULL);
}
END_TEST

/* A task of the group owns a group of its own. */
static void *own_a_group(void *arg) {
    family *all = (family *)arg, own = {.begun = 0};
    mtask_status status;
    begin(&own.group);
    add(&own.group, clean_up_slowly, &own);
    status = mtask_taskgroup_end(&own.group, NULL);
    ck_assert_status(status, MTASK_CANCELED);
    ck_assert_int_eq(own.ended, 1);
    all->ended++;
    return arg;
}

static void *fail_above_a_group(void *arg) {
    family *all = (family *)arg;
    begin(&all->group);
    add(&all->group, own_a_group, all);
    add(&all->group, own_a_group, all);
    add(&all->group, fail_soon, all);
    end_failed(&all->group, MTASK_NOT_FOUND, "nothing there");
    ck_assert_int_eq(all->ended, 2);
    return arg;
}

START_TEST(a_failure_ends_the_groups_of_the_others) {
    family all = {.begun = 0};
    (void)in_loop(fail_above_a_group, &all);
}
END_TEST

static void *pass_failure_on(void *arg) {
    family own = {.begun = 0};
    mtask_outcome outcome;
    (void)arg;
    begin(&own.group);
    add(&own.group, fail_soon, &own);
    ck_assert_status(mtask_taskgroup_end(&own.group, &outcome), MTASK_FAILED);
    return mtask_fail(outcome.status, "below: %s", outcome.text);
}

static void *hear_from_below(void *arg) {
    family *all = (family *)arg;
    begin(&all->group);
    add(&all->group, pass_failure_on, all);
    add(&all->group, sleep_long, all);
    end_failed(&all->group, MTASK_NOT_FOUND, "below: nothing there");
    ck_assert_int_eq(all->ended, 1);
    return arg;
}

START_TEST(failures_travel_up_through_groups) {
    family all = {.begun = 0};
    (void)in_loop(hear_from_below, &all);
}
END_TEST

static void *limit_a_group(void *arg) {
    family *all = (family *)arg;
    mtask_limit limit;
    ck_assert_status(mtask_limit_begin(&limit, MTASK_US(300)), MTASK_OK);
    begin(&all->group);
    add(&all->group, clean_up_slowly, all);
    add(&all->group, clean_up_slowly, all);
    end(&all->group, MTASK_CANCELED);
    ck_assert_int_eq(all->ended, 2);
    ck_assert_status(mtask_limit_end(&limit), MTASK_TIMEOUT);
    check_unharmed();
    return arg;
}

START_TEST(a_limit_around_a_group_cancels_its_tasks) {
    family all = {.begun = 0};
    (void)in_loop(limit_a_group, &all);
}
END_TEST

static void *limit_inside_a_group(void *arg) {
    family *all = (family *)arg;
    mtask_limit limit;
    begin(&all->group);
    add(&all->group, nap, all);
    ck_assert_status(mtask_limit_begin(&limit, MTASK_US(50)), MTASK_OK);
    ck_assert_status(mtask_sleep(LONG), MTASK_CANCELED);
    ck_assert_status(mtask_limit_end(&limit), MTASK_TIMEOUT);
    ck_assert(!mtask_canceled());
    end(&all->group, MTASK_OK); /* its tasks are no concern of that limit */
    ck_assert_int_eq(all->ended, 1);
    begin(&all->group);
    add(&all->group, fail_soon, all);
    ck_assert_status(mtask_limit_begin(&limit, LONG), MTASK_OK);
    ck_assert_status(mtask_sleep(LONG), MTASK_CANCELED);
    ck_assert_status(mtask_limit_end(&limit), MTASK_OK); /* it was the failure */
    end_failed(&all->group, MTASK_NOT_FOUND, "nothing there");
    check_unharmed();
    return arg;
}

START_TEST(a_limit_inside_a_group_concerns_the_owner_alone) {
    family all = {.begun = 0};
    (void)in_loop(limit_inside_a_group, &all);
}
END_TEST

static void *live_within_a_limit(void *arg) {
    mtask_limit limit;
    ck_assert_status(mtask_limit_begin(&limit, MTASK_US(100)), MTASK_OK);
    ck_assert_status(mtask_sleep(LONG), MTASK_CANCELED);
    ck_assert_status(mtask_limit_end(&limit), MTASK_TIMEOUT);
    return nap(arg);
}

static void *let_members_have_limits(void *arg) {
    family *all = (family *)arg;
    begin(&all->group);
    for (int i = 0; i < 3; i++)
        add(&all->group, live_within_a_limit, all);
    end(&all->group, MTASK_OK);
    ck_assert_int_eq(all->ended, 3);
    return arg;
}

START_TEST(tasks_of_a_group_have_limits_of_their_own) {
    family all = {.begun = 0};
    (void)in_loop(let_members_have_limits, &all);
}
END_TEST

/* ---- misuse ---- */

static void *end_anothers_group(void *arg) {
    end((mtask_taskgroup *)arg, MTASK_INVALID);
    return arg;
}

static void *misuse_groups(void *arg) {
    family outer = {.begun = 0}, inner = {.begun = 0};
    mtask_limit limit;
    begin(&outer.group);
    begin(&inner.group);
    ck_assert_status(mtask_limit_begin(&limit, LONG), MTASK_OK);
    add(&outer.group, nap, &outer);
    end(&outer.group, MTASK_INVALID);
    end(&inner.group, MTASK_INVALID);
    ck_assert_status(mtask_limit_end(&limit), MTASK_OK);
    end(&outer.group, MTASK_INVALID);
    (void)take(go(end_anothers_group, &inner.group));
    ck_assert_status(mtask_taskgroup_go(&inner.group, NULL, NULL, NULL), MTASK_INVALID);
    ck_assert_uint_eq(mtask_taskgroup_pending(&inner.group), 0);
    end(&inner.group, MTASK_OK);
    end(&inner.group, MTASK_INVALID);
    end(&outer.group, MTASK_OK);
    ck_assert_int_eq(outer.ended, 1);
    check_unharmed();
    return arg;
}

START_TEST(misuse_of_groups_is_refused) {
    mtask_taskgroup group;
    ck_assert_status(mtask_taskgroup_begin(&group), MTASK_INVALID);
    (void)in_loop(misuse_groups, NULL);
}
END_TEST

/* ---- gather ---- */

/* What one of the calls is to do. */
typedef struct errand {
    long number;
    int64_t nap;
    mtask_status status; /* with which it fails */
    bool ran;
    bool canceled;
    bool done;
} errand;

static void *do_errand(void *arg) {
    errand *self = (errand *)arg;
    self->ran = true;
    self->canceled = mtask_sleep(self->nap) == MTASK_CANCELED;
    self->done = true;
    if (self->canceled || self->status != MTASK_OK)
        return mtask_fail(self->canceled ? MTASK_CANCELED : self->status, "%ld", self->number);
    return self;
}

static void plan_errands(errand *errands, mtask_call *calls, long count) {
    for (long i = 0; i < count; i++) {
        errands[i] = (errand){.number = i, .nap = MTASK_US(50 * (count - i))};
        calls[i] = (mtask_call){do_errand, &errands[i]};
    }
}

static void *gather_all(void *arg) {
    errand errands[10];
    mtask_call calls[10];
    mtask_outcome outcomes[10];
    plan_errands(errands, calls, 10);
    memset(outcomes, 0xA5, sizeof outcomes);
    ck_assert_status(mtask_gather(calls, 10, outcomes), MTASK_OK);
    for (int i = 0; i < 10; i++) { /* though the last ended first */
        ck_assert_status(outcomes[i].status, MTASK_OK);
        ck_assert_ptr_eq(outcomes[i].value, &errands[i]);
        ck_assert_str_eq(outcomes[i].text, "");
    }
    ck_assert_status(mtask_gather(calls, 10, NULL), MTASK_OK);
    ck_assert_status(mtask_gather(calls, 0, outcomes), MTASK_OK);
    ck_assert_status(mtask_gather(NULL, 0, NULL), MTASK_OK);
    check_unharmed();
    return arg;
}

START_TEST(gather_gives_the_results_in_order) {
    (void)in_loop(gather_all, NULL);
}
END_TEST

static void *gather_a_failure(void *arg) {
    errand errands[5];
    mtask_call calls[5];
    mtask_outcome outcomes[5];
    plan_errands(errands, calls, 5);
    for (int i = 0; i < 4; i++)
        errands[i].nap = i == 1 ? MTASK_MS(1) : LONG;
    errands[1].status = MTASK_NOT_FOUND;
    errands[4].nap = 0;
    ck_assert_status(mtask_gather(calls, 5, outcomes), MTASK_FAILED);
    for (int i = 0; i < 5; i++) {
        ck_assert(errands[i].ran);
        ck_assert(errands[i].canceled == (i != 1 && i != 4));
        ck_assert_status(outcomes[i].status, i == 1   ? MTASK_NOT_FOUND
                                             : i == 4 ? MTASK_OK
                                                      : MTASK_CANCELED);
    }
    ck_assert_str_eq(outcomes[1].text, "1");
    errands[1].nap = 0;
    ck_assert_status(mtask_gather(calls, 5, NULL), MTASK_FAILED);
    check_unharmed();
    return arg;
}

START_TEST(the_first_failure_of_a_gather_cancels_the_others) {
    (void)in_loop(gather_a_failure, NULL);
}
END_TEST

static void *gather_some_that_give_up(void *arg) {
    errand errands[3];
    mtask_call calls[3];
    mtask_outcome outcomes[3];
    plan_errands(errands, calls, 3);
    errands[2].status = MTASK_CANCELED;
    ck_assert_status(mtask_gather(calls, 3, outcomes), MTASK_OK);
    ck_assert_status(outcomes[0].status, MTASK_OK);
    ck_assert_status(outcomes[1].status, MTASK_OK);
    ck_assert_status(outcomes[2].status, MTASK_CANCELED);
    ck_assert_ptr_null(outcomes[2].value);
    return arg;
}

START_TEST(who_gives_up_does_not_fail_the_others_of_a_gather) {
    (void)in_loop(gather_some_that_give_up, NULL);
}
END_TEST

static void *gather_until_cancelled(void *arg) {
    errand *errands = (errand *)arg;
    mtask_call calls[3];
    mtask_outcome outcomes[3];
    plan_errands(errands, calls, 3);
    errands[0].nap = errands[2].nap = LONG;
    ck_assert_status(mtask_gather(calls, 3, outcomes), MTASK_CANCELED);
    ck_assert(errands[0].canceled && errands[2].canceled);
    ck_assert_status(outcomes[0].status, MTASK_CANCELED);
    ck_assert_status(outcomes[1].status, MTASK_OK);
    ck_assert_status(outcomes[2].status, MTASK_CANCELED);
    ck_assert_status(mtask_sleep(LONG), MTASK_CANCELED);
    return arg;
}

static void *cancel_a_gather(void *arg) {
    errand errands[3] = {{.done = false}};
    mtask_future *future = go(gather_until_cancelled, errands);
    while (!errands[1].done)
        take_turns();
    ck_assert_status(mtask_future_cancel(future), MTASK_OK);
    (void)take(future);
    return arg;
}

START_TEST(a_cancelled_caller_of_gather_cancels_its_tasks) {
    (void)in_loop(cancel_a_gather, NULL);
}
END_TEST

static void *gather_within_a_limit(void *arg) {
    errand errands[2];
    mtask_call calls[2];
    mtask_limit limit;
    plan_errands(errands, calls, 2);
    errands[0].nap = LONG;
    ck_assert_status(mtask_limit_begin(&limit, MTASK_MS(1)), MTASK_OK);
    ck_assert_status(mtask_gather(calls, 2, NULL), MTASK_CANCELED);
    ck_assert_status(mtask_limit_end(&limit), MTASK_TIMEOUT);
    ck_assert(errands[0].canceled);
    check_unharmed();
    return arg;
}

START_TEST(a_limit_cuts_a_gather_short) {
    (void)in_loop(gather_within_a_limit, NULL);
}
END_TEST

static void *gather_nothing(void *arg) {
    errand errands[3];
    mtask_call calls[3];
    mtask_outcome outcomes[3];
    plan_errands(errands, calls, 3);
    calls[1].fn = NULL;
    errands[0].nap = LONG;
    ck_assert_status(mtask_gather(calls, 3, outcomes), MTASK_INVALID);
    ck_assert(!errands[0].ran || errands[0].canceled);
    ck_assert(!errands[2].ran);
    check_unharmed();
    return arg;
}

START_TEST(gather_needs_functions_and_a_task) {
    mtask_call call = {return_arg, NULL};
    ck_assert_status(mtask_gather(&call, 1, NULL), MTASK_INVALID);
    (void)in_loop(gather_nothing, NULL);
}
END_TEST

/* Sums 1 .. n by two calls that do the same for the halves. */
typedef struct range {
    long begin;
    long end;
} range;

static void *sum_up(void *arg) {
    range *self = (range *)arg, halves[2];
    mtask_call calls[2] = {{sum_up, &halves[0]}, {sum_up, &halves[1]}};
    mtask_outcome outcomes[2];
    if (self->end - self->begin == 1)
        return (void *)self->begin;
    halves[0] = (range){self->begin, (self->begin + self->end) / 2};
    halves[1] = (range){halves[0].end, self->end};
    ck_assert_status(mtask_gather(calls, 2, outcomes), MTASK_OK);
    return (void *)((long)outcomes[0].value + (long)outcomes[1].value);
}

START_TEST(gathers_nest) {
    range all = {1, TESTING_TSAN ? 65 : 257};
    ck_assert_int_eq((long)in_loop(sum_up, &all), all.end * (all.end - 1) / 2);
}
END_TEST

TESTING_MAIN("mtask_taskgroup", a_group_ends_after_its_tasks, a_group_may_be_empty,
             tasks_of_a_group_have_futures, tasks_of_a_group_may_add_others,
             the_first_failure_cancels_the_others, the_outcome_tells_of_the_first_failure,
             a_failure_cuts_the_owners_waits_short, what_has_not_begun_when_one_fails_never_runs,
             a_task_that_was_cancelled_has_not_failed, a_failure_is_no_concern_of_tasks_outside,
             one_failure_cancels_many, an_owner_cancels_its_group, a_task_of_the_group_cancels_it,
             any_task_of_the_loop_cancels_a_group, a_failure_during_cancellation_is_told,
             a_cancelled_owner_cancels_its_tasks_and_waits_for_them,
             a_cancelled_task_may_begin_a_group, a_failure_is_told_to_a_cancelled_owner,
             a_loop_that_ends_waits_for_groups, a_failure_in_an_inner_group_stays_there,
             a_failure_in_the_outer_group_ends_the_inner_one,
             a_failure_ends_the_groups_of_the_others, failures_travel_up_through_groups,
             a_limit_around_a_group_cancels_its_tasks,
             a_limit_inside_a_group_concerns_the_owner_alone,
             tasks_of_a_group_have_limits_of_their_own, misuse_of_groups_is_refused,
             gather_gives_the_results_in_order, the_first_failure_of_a_gather_cancels_the_others,
             who_gives_up_does_not_fail_the_others_of_a_gather,
             a_cancelled_caller_of_gather_cancels_its_tasks, a_limit_cuts_a_gather_short,
             gather_needs_functions_and_a_task, gathers_nest)
