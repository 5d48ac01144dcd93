/* test_mtask_barrier.c - the barrier */
#include "testing_threads.h"

enum { PARTIES = 5 };

/* A barrier for five, a second one to part the phases of a test, and counters. */
typedef struct meeting {
    mtask_barrier barrier;
    mtask_barrier second;
    int before, after;    /* how many came, how many passed */
    int indices[PARTIES]; /* how often each was given */
    int actions;
    uint64_t actor; /* the task that ran the action */
    int passed, broken, again;
    int rounds;
    uint64_t seed;
    int64_t start;
} meeting;

static void prepare(meeting *all, mtask_fn action) {
    memset(all, 0, sizeof *all);
    ck_assert_status(mtask_barrier_init(&all->barrier, PARTIES, action, all, 0), MTASK_OK);
    ck_assert_status(mtask_barrier_init(&all->second, PARTIES, NULL, NULL, 0), MTASK_OK);
}

static int count(int *counter) {
    return __atomic_fetch_add(counter, 1, __ATOMIC_SEQ_CST);
}

static int counted(const int *counter) {
    return __atomic_load_n(counter, __ATOMIC_SEQ_CST);
}

static void await_waiting(mtask_barrier *barrier, uint32_t waiting) {
    while (mtask_barrier_waiting(barrier) != waiting)
        sched_yield();
}

START_TEST(barrier_init_refuses_no_parties_and_unknown_flags) {
    mtask_barrier barrier;
    ck_assert_status(mtask_barrier_init(&barrier, 0, NULL, NULL, 0), MTASK_INVALID);
    ck_assert_status(mtask_barrier_init(&barrier, 1, NULL, NULL, 2), MTASK_INVALID);
    ck_assert_status(mtask_barrier_init(&barrier, 1, NULL, NULL, 4), MTASK_INVALID);
    ck_assert_status(mtask_barrier_init(&barrier, 1, NULL, NULL, -1), MTASK_INVALID);
    ck_assert_status(mtask_barrier_init(&barrier, 7, NULL, NULL, MTASK_PRIVATE), MTASK_OK);
    ck_assert_uint_eq(mtask_barrier_parties(&barrier), 7);
    ck_assert_uint_eq(mtask_barrier_waiting(&barrier), 0);
    ck_assert(!mtask_barrier_is_broken(&barrier));
}
END_TEST

START_TEST(barrier_that_was_never_initialised_does_not_wait) {
    mtask_barrier barrier;
    uint32_t index;
    memset(&barrier, 0, sizeof barrier);
    ck_assert_status(mtask_barrier_wait(&barrier, &index, MTASK_FOREVER), MTASK_INVALID);
}
END_TEST

START_TEST(barrier_refuses_negative_timeouts_without_counting_them) {
    mtask_barrier barrier;
    ck_assert_status(mtask_barrier_init(&barrier, 2, NULL, NULL, 0), MTASK_OK);
    ck_assert_status(mtask_barrier_wait(&barrier, NULL, -1), MTASK_INVALID);
    ck_assert_status(mtask_barrier_wait(&barrier, NULL, INT64_MIN), MTASK_INVALID);
    ck_assert_uint_eq(mtask_barrier_waiting(&barrier), 0);
    ck_assert(!mtask_barrier_is_broken(&barrier));
}
END_TEST

START_TEST(barrier_of_one_party_never_waits) {
    mtask_barrier barrier;
    ck_assert_status(mtask_barrier_init(&barrier, 1, NULL, NULL, 0), MTASK_OK);
    for (int i = 0; i < 3; i++) {
        uint32_t index = 7;
        ck_assert_status(mtask_barrier_wait(&barrier, &index, MTASK_NOWAIT), MTASK_OK);
        ck_assert_uint_eq(index, 0);
        ck_assert_status(mtask_barrier_wait(&barrier, NULL, MTASK_FOREVER), MTASK_OK);
    }
}
END_TEST

static void pass_in_step(testing_member *self) {
    meeting *all = (meeting *)self->arg;
    for (int round = 0; round < all->rounds; round++) {
        count(&all->before);
        testing_check(counted(&all->after) == round * PARTIES);
        ck_assert_status(mtask_barrier_wait(&all->barrier, NULL, MTASK_FOREVER), MTASK_OK);
        count(&all->after);
        testing_check(counted(&all->before) == (round + 1) * PARTIES);
        ck_assert_status(mtask_barrier_wait(&all->barrier, NULL, MTASK_FOREVER), MTASK_OK);
    }
}

START_TEST(barrier_is_passed_in_step_ten_times) {
    meeting all;
    testing_crowd crowd;
    prepare(&all, NULL);
    all.rounds = 10;
    testing_crowd_start(&crowd, PARTIES, pass_in_step, &all);
    testing_crowd_join(&crowd);
    ck_assert_int_eq(all.after, 10 * PARTIES);
    ck_assert_uint_eq(mtask_barrier_waiting(&all.barrier), 0);
    ck_assert(!mtask_barrier_is_broken(&all.barrier));
}
END_TEST

START_TEST(barrier_is_passed_in_step_a_thousand_times) {
    meeting all;
    testing_crowd crowd;
    prepare(&all, NULL);
    all.rounds = (int)testing_scale(1500);
    testing_crowd_start(&crowd, PARTIES, pass_in_step, &all);
    testing_crowd_join(&crowd);
    ck_assert_int_eq(all.after, all.rounds * PARTIES);
}
END_TEST

static void take_index(testing_member *self) {
    meeting *all = (meeting *)self->arg;
    for (int round = 0; round < 20; round++) {
        uint32_t index = UINT32_MAX;
        ck_assert_status(mtask_barrier_wait(&all->barrier, &index, MTASK_FOREVER), MTASK_OK);
        testing_check(index < PARTIES);
        testing_check(count(&all->indices[index]) == round); /* each once in each round */
        ck_assert_status(mtask_barrier_wait(&all->second, NULL, MTASK_FOREVER), MTASK_OK);
    }
}

START_TEST(barrier_gives_each_index_once) {
    meeting all;
    testing_crowd crowd;
    prepare(&all, NULL);
    testing_crowd_start(&crowd, PARTIES, take_index, &all);
    testing_crowd_join(&crowd);
    for (int i = 0; i < PARTIES; i++)
        ck_assert_int_eq(all.indices[i], 20);
}
END_TEST

static void arrive(testing_member *self) {
    uint32_t index = UINT32_MAX;
    self->status = mtask_barrier_wait(&((meeting *)self->arg)->barrier, &index, MTASK_FOREVER);
    self->number = (long)index;
}

START_TEST(barrier_index_is_the_order_of_arrival_and_waiting_counts) {
    meeting all;
    testing_crowd crowd = {.count = 0};
    uint32_t index;
    prepare(&all, NULL);
    for (uint32_t i = 0; i + 1 < PARTIES; i++) {
        ck_assert_uint_eq(mtask_barrier_waiting(&all.barrier), i);
        (void)testing_crowd_add(&crowd, arrive, &all);
        await_waiting(&all.barrier, i + 1);
    }
    testing_crowd_await_asleep(&crowd, PARTIES - 1);
    ck_assert_status(mtask_barrier_wait(&all.barrier, &index, MTASK_NOWAIT), MTASK_OK);
    ck_assert_uint_eq(index, PARTIES - 1);
    testing_crowd_join(&crowd);
    for (int i = 0; i + 1 < PARTIES; i++)
        ck_assert_int_eq(crowd.members[i].number, i);
    ck_assert_uint_eq(mtask_barrier_waiting(&all.barrier), 0);
}
END_TEST

/* ---- action ---- */

static void *act(void *arg) {
    meeting *all = (meeting *)arg;
    testing_check(all->passed == 0); /* nobody goes on before */
    all->actions++;
    all->actor = mtask_task_id();
    return NULL;
}

static void arrive_for_action(testing_member *self) {
    meeting *all = (meeting *)self->arg;
    uint32_t index;
    ck_assert_status(mtask_barrier_wait(&all->barrier, &index, MTASK_FOREVER), MTASK_OK);
    testing_check(all->actions == 1); /* plain: the barrier makes it visible */
    testing_check((all->actor == mtask_task_id()) == (index == PARTIES - 1));
    count(&all->passed);
}

START_TEST(barrier_action_is_run_once_by_the_last_before_the_others_go_on) {
    meeting all;
    testing_crowd crowd;
    prepare(&all, act);
    testing_crowd_start(&crowd, PARTIES, arrive_for_action, &all);
    testing_crowd_join(&crowd);
    ck_assert_int_eq(all.actions, 1);
    ck_assert_int_eq(all.passed, PARTIES);
}
END_TEST

static void *fail_at_first(void *arg) {
    meeting *all = (meeting *)arg;
    return all->actions++ == 0 ? mtask_fail(MTASK_NOMEM, "no chairs") : NULL;
}

START_TEST(barrier_action_that_fails_breaks_it) {
    meeting all;
    testing_crowd crowd;
    prepare(&all, fail_at_first);
    testing_crowd_start(&crowd, PARTIES, arrive, &all);
    testing_crowd_join(&crowd);
    ck_assert_int_eq(testing_crowd_count(&crowd, MTASK_BROKEN), PARTIES);
    ck_assert(mtask_barrier_is_broken(&all.barrier));
    ck_assert_status(mtask_barrier_wait(&all.barrier, NULL, MTASK_FOREVER), MTASK_BROKEN);
    ck_assert_status(mtask_barrier_reset(&all.barrier), MTASK_OK);
    testing_crowd_start(&crowd, PARTIES, arrive, &all);
    testing_crowd_join(&crowd);
    ck_assert_int_eq(testing_crowd_count(&crowd, MTASK_OK), PARTIES);
    ck_assert_int_eq(all.actions, 2);
}
END_TEST

/* ---- abort, reset, time-out ---- */

/* Passes once; then the one with index 2 aborts and the others wait in vain. */
static void abort_in_the_middle(testing_member *self) {
    meeting *all = (meeting *)self->arg;
    uint32_t index;
    ck_assert_status(mtask_barrier_wait(&all->barrier, &index, MTASK_FOREVER), MTASK_OK);
    if (index == PARTIES / 2)
        ck_assert_status(mtask_barrier_abort(&all->barrier), MTASK_OK);
    else if (mtask_barrier_wait(&all->barrier, NULL, MTASK_FOREVER) == MTASK_BROKEN)
        count(&all->broken);
}

START_TEST(barrier_abort_breaks_it_for_all) {
    meeting all;
    testing_crowd crowd;
    prepare(&all, NULL);
    testing_crowd_start(&crowd, PARTIES, abort_in_the_middle, &all);
    testing_crowd_join(&crowd);
    ck_assert_int_eq(all.broken, PARTIES - 1);
    ck_assert(mtask_barrier_is_broken(&all.barrier));
    ck_assert_uint_eq(mtask_barrier_waiting(&all.barrier), 0);
    ck_assert_status(mtask_barrier_abort(&all.barrier), MTASK_OK); /* again: no harm */
    ck_assert_status(mtask_barrier_wait(&all.barrier, NULL, MTASK_NOWAIT), MTASK_BROKEN);
}
END_TEST

static void reset_in_the_middle(testing_member *self) {
    meeting *all = (meeting *)self->arg;
    uint32_t index;
    ck_assert_status(mtask_barrier_wait(&all->barrier, &index, MTASK_FOREVER), MTASK_OK);
    if (index == PARTIES / 2) {
        await_waiting(&all->barrier, PARTIES - 1);
        ck_assert_status(mtask_barrier_reset(&all->barrier), MTASK_OK);
    } else if (mtask_barrier_wait(&all->barrier, NULL, MTASK_FOREVER) == MTASK_BROKEN) {
        count(&all->broken);
    }
    ck_assert_status(mtask_barrier_wait(&all->barrier, NULL, MTASK_FOREVER), MTASK_OK);
    count(&all->again);
}

START_TEST(barrier_reset_sends_the_waiters_away_and_begins_anew) {
    for (int i = 0; i < 50; i++) {
        meeting all;
        testing_crowd crowd;
        prepare(&all, NULL);
        testing_crowd_start(&crowd, PARTIES, reset_in_the_middle, &all);
        testing_crowd_join(&crowd);
        ck_assert_int_eq(all.broken, PARTIES - 1);
        ck_assert_int_eq(all.again, PARTIES);
        ck_assert(!mtask_barrier_is_broken(&all.barrier));
    }
}
END_TEST

static void abort_then_reset(testing_member *self) {
    meeting *all = (meeting *)self->arg;
    uint32_t index;
    abort_in_the_middle(self);
    ck_assert_status(mtask_barrier_wait(&all->second, &index, MTASK_FOREVER), MTASK_OK);
    if (index == PARTIES / 2)
        ck_assert_status(mtask_barrier_reset(&all->barrier), MTASK_OK);
    ck_assert_status(mtask_barrier_wait(&all->second, NULL, MTASK_FOREVER), MTASK_OK);
    ck_assert_status(mtask_barrier_wait(&all->barrier, NULL, MTASK_FOREVER), MTASK_OK);
    count(&all->again);
}

START_TEST(barrier_is_whole_again_when_reset_after_abort) {
    meeting all;
    testing_crowd crowd;
    prepare(&all, NULL);
    testing_crowd_start(&crowd, PARTIES, abort_then_reset, &all);
    testing_crowd_join(&crowd);
    ck_assert_int_eq(all.broken, PARTIES - 1);
    ck_assert_int_eq(all.again, PARTIES);
}
END_TEST

START_TEST(barrier_reset_of_an_empty_one_changes_nothing) {
    meeting all;
    testing_crowd crowd;
    prepare(&all, NULL);
    ck_assert_status(mtask_barrier_reset(&all.barrier), MTASK_OK);
    ck_assert_status(mtask_barrier_reset(&all.barrier), MTASK_OK);
    ck_assert(!mtask_barrier_is_broken(&all.barrier));
    testing_crowd_start(&crowd, PARTIES, arrive, &all);
    testing_crowd_join(&crowd);
    ck_assert_int_eq(testing_crowd_count(&crowd, MTASK_OK), PARTIES);
}
END_TEST

START_TEST(barrier_timeout_breaks_it_for_all) {
    meeting all;
    testing_crowd crowd;
    int64_t start;
    prepare(&all, NULL);
    testing_crowd_start(&crowd, PARTIES - 2, arrive, &all);
    await_waiting(&all.barrier, PARTIES - 2);
    start = mtask_now();
    ck_assert_status(mtask_barrier_wait(&all.barrier, NULL, MTASK_MS(20)), MTASK_TIMEOUT);
    ck_assert_int_ge(mtask_now() - start, MTASK_MS(20));
    testing_crowd_join(&crowd);
    ck_assert_int_eq(testing_crowd_count(&crowd, MTASK_BROKEN), PARTIES - 2);
    ck_assert(mtask_barrier_is_broken(&all.barrier));
    ck_assert_status(mtask_barrier_wait(&all.barrier, NULL, MTASK_MS(20)), MTASK_BROKEN);
    ck_assert_status(mtask_barrier_reset(&all.barrier), MTASK_OK);
    ck_assert(!mtask_barrier_is_broken(&all.barrier));
}
END_TEST

START_TEST(barrier_wait_without_waiting_breaks_it_unless_it_is_the_last) {
    meeting all;
    testing_crowd crowd;
    prepare(&all, NULL);
    ck_assert_status(mtask_barrier_wait(&all.barrier, NULL, MTASK_NOWAIT), MTASK_TIMEOUT);
    ck_assert(mtask_barrier_is_broken(&all.barrier));
    ck_assert_status(mtask_barrier_reset(&all.barrier), MTASK_OK);
    testing_crowd_start(&crowd, PARTIES - 1, arrive, &all);
    await_waiting(&all.barrier, PARTIES - 1);
    ck_assert_status(mtask_barrier_wait(&all.barrier, NULL, MTASK_NOWAIT), MTASK_OK);
    testing_crowd_join(&crowd);
    ck_assert_int_eq(testing_crowd_count(&crowd, MTASK_OK), PARTIES - 1);
}
END_TEST

START_TEST(barrier_wait_goes_on_after_signals_and_uses_no_cpu) {
    meeting all;
    testing_crowd crowd;
    prepare(&all, NULL);
    testing_catch_signals();
    testing_crowd_start(&crowd, 1, arrive, &all);
    testing_interrupt(&crowd.members[0]);
    ck_assert_uint_eq(mtask_barrier_waiting(&all.barrier), 1);
    testing_check_idle(&crowd.members[0]);
    ck_assert_status(mtask_barrier_abort(&all.barrier), MTASK_OK);
    testing_crowd_join(&crowd);
    ck_assert_status(crowd.members[0].status, MTASK_BROKEN);
}
END_TEST

/* ---- stress ---- */

/* Three meet with time-outs of every length, and whoever finds the barrier broken mends it; a
   fourth aborts and resets as it likes. A round that is complete is so for all three. */
static void meet_in_disorder(testing_member *self) {
    meeting *all = (meeting *)self->arg;
    testing_random random = testing_random_make(all->seed, (unsigned)self->index);
    while (testing_has_time(all->start)) {
        uint32_t index = UINT32_MAX;
        int64_t timeout = (int64_t)testing_below(&random, MTASK_US(300));
        mtask_status status;
        if (self->index == 3) {
            mtask_sleep(timeout);
            status = testing_below(&random, 2) == 0 ? mtask_barrier_abort(&all->barrier)
                                                    : mtask_barrier_reset(&all->barrier);
            ck_assert_status(status, MTASK_OK);
            continue;
        }
        status = mtask_barrier_wait(&all->barrier, &index, timeout);
        if (status == MTASK_OK) {
            testing_check(index < 3);
            count(&all->indices[index]);
        } else {
            testing_check(status == MTASK_TIMEOUT || status == MTASK_BROKEN);
            ck_assert_status(mtask_barrier_reset(&all->barrier), MTASK_OK);
        }
    }
}

START_TEST(barrier_rounds_are_whole_among_timeouts_aborts_and_resets) {
    meeting all;
    testing_crowd crowd;
    prepare(&all, NULL);
    ck_assert_status(mtask_barrier_init(&all.barrier, 3, NULL, NULL, 0), MTASK_OK);
    all.seed = testing_seed();
    all.start = mtask_now();
    testing_crowd_start(&crowd, 4, meet_in_disorder, &all);
    testing_crowd_join(&crowd);
    ck_assert_int_eq(all.indices[0], all.indices[1]);
    ck_assert_int_eq(all.indices[1], all.indices[2]);
    ck_assert_status(mtask_barrier_reset(&all.barrier), MTASK_OK);
    ck_assert_uint_eq(mtask_barrier_waiting(&all.barrier), 0);
    testing_crowd_start(&crowd, 3, arrive, &all); /* and it still works */
    testing_crowd_join(&crowd);
    ck_assert_int_eq(testing_crowd_count(&crowd, MTASK_OK), 3);
}
END_TEST

static void *count_action(void *arg) {
    meeting *all = (meeting *)arg;
    all->actions++; /* plain: there is one action at a time */
    if (all->actions % 8 == 0)
        sched_yield(); /* the next ones arrive while it runs, and have to wait */
    return NULL;
}

static void meet_until_broken(testing_member *self) {
    meeting *all = (meeting *)self->arg;
    for (;;) {
        uint32_t index = UINT32_MAX;
        mtask_status status = mtask_barrier_wait(&all->barrier, &index, MTASK_FOREVER);
        if (status == MTASK_BROKEN)
            return;
        ck_assert_status(status, MTASK_OK);
        testing_check(index < 2);
        count(&all->indices[index]);
    }
}

START_TEST(barrier_serves_more_tasks_than_parties_in_turn) {
    meeting all;
    testing_crowd crowd;
    prepare(&all, NULL);
    ck_assert_status(mtask_barrier_init(&all.barrier, 2, count_action, &all, 0), MTASK_OK);
    testing_crowd_start(&crowd, 5, meet_until_broken, &all);
    while (counted(&all.indices[1]) < testing_scale(2000))
        testing_pause(1);
    ck_assert_status(mtask_barrier_abort(&all.barrier), MTASK_OK);
    testing_crowd_join(&crowd);
    ck_assert_int_eq(all.indices[0], all.indices[1]);
    ck_assert_int_ge(all.actions, all.indices[0]); /* one may have been aborted in its action */
    ck_assert_int_le(all.actions, all.indices[0] + 1);
}
END_TEST

static void init_barrier_of_two(void *object) {
    ck_assert_status(mtask_barrier_init((mtask_barrier *)object, 2, NULL, NULL, 0), MTASK_OK);
}

/* The one who came first frees: the other may still be inside its call. */
static bool leave_barrier(void *object, int player, testing_random *random) {
    uint32_t index;
    (void)player;
    (void)random;
    ck_assert_status(mtask_barrier_wait((mtask_barrier *)object, &index, MTASK_FOREVER), MTASK_OK);
    return index == 0;
}

START_TEST(barrier_may_be_freed_by_the_one_who_waited) {
    testing_play(sizeof(mtask_barrier), init_barrier_of_two, leave_barrier);
}
END_TEST

TESTING_MAIN("barrier", barrier_init_refuses_no_parties_and_unknown_flags,
             barrier_that_was_never_initialised_does_not_wait,
             barrier_refuses_negative_timeouts_without_counting_them,
             barrier_of_one_party_never_waits, barrier_is_passed_in_step_ten_times,
             barrier_is_passed_in_step_a_thousand_times, barrier_gives_each_index_once,
             barrier_index_is_the_order_of_arrival_and_waiting_counts,
             barrier_action_is_run_once_by_the_last_before_the_others_go_on,
             barrier_action_that_fails_breaks_it, barrier_abort_breaks_it_for_all,
             barrier_reset_sends_the_waiters_away_and_begins_anew,
             barrier_is_whole_again_when_reset_after_abort,
             barrier_reset_of_an_empty_one_changes_nothing, barrier_timeout_breaks_it_for_all,
             barrier_wait_without_waiting_breaks_it_unless_it_is_the_last,
             barrier_wait_goes_on_after_signals_and_uses_no_cpu,
             barrier_rounds_are_whole_among_timeouts_aborts_and_resets,
             barrier_serves_more_tasks_than_parties_in_turn,
             barrier_may_be_freed_by_the_one_who_waited)
