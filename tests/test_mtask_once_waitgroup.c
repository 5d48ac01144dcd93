/* test_mtask_once_waitgroup.c - what runs once, and waiting for a number of things */
#include "testing_threads.h"

#include <sys/wait.h>

/* ---- once ---- */

/* Something to do once, and what was seen of it. */
typedef struct chore {
    mtask_once_flag once;
    int begun;  /* how often it was begun */
    int result; /* plain: once makes it visible */
    int failures;
    mtask_event let_go;
    bool held_up;
} chore;

static void *do_chore(void *arg) {
    chore *all = (chore *)arg;
    int run = __atomic_fetch_add(&all->begun, 1, __ATOMIC_SEQ_CST);
    if (all->held_up)
        ck_assert_status(mtask_event_wait(&all->let_go, MTASK_FOREVER), MTASK_OK);
    if (run < all->failures)
        return mtask_fail(MTASK_NOMEM, "attempt %d", run);
    all->result = 42;
    return NULL;
}

static void ask_for_chore(testing_member *self) {
    chore *all = (chore *)self->arg;
    self->status = mtask_once(&all->once, do_chore, all);
    if (self->status == MTASK_OK)
        self->number = all->result;
}

START_TEST(once_is_four_bytes_and_has_not_run_when_zeroed) {
    static chore all;
    ck_assert_uint_eq(sizeof all.once, 4);
    ck_assert(!mtask_once_is_done(&all.once));
    for (int i = 0; i < 3; i++) {
        ck_assert_status(mtask_once(&all.once, do_chore, &all), MTASK_OK);
        ck_assert(mtask_once_is_done(&all.once));
        ck_assert_int_eq(all.begun, 1);
    }
}
END_TEST

START_TEST(once_init_makes_it_new_and_refuses_unknown_flags) {
    chore all = {.begun = 0};
    memset(&all.once, 0xff, sizeof all.once);
    ck_assert_status(mtask_once_init(&all.once, MTASK_PRIVATE), MTASK_OK);
    ck_assert(!mtask_once_is_done(&all.once));
    ck_assert_status(mtask_once(&all.once, do_chore, &all), MTASK_OK);
    ck_assert_status(mtask_once_init(&all.once, 2), MTASK_INVALID);
    ck_assert_status(mtask_once_init(&all.once, 4), MTASK_INVALID);
    ck_assert_status(mtask_once_init(&all.once, -1), MTASK_INVALID);
    ck_assert(mtask_once_is_done(&all.once)); /* a refused init changes nothing */
}
END_TEST

START_TEST(once_runs_once_however_many_ask_and_all_wait_for_it) {
    chore all = {.held_up = true};
    testing_crowd crowd;
    testing_crowd_start(&crowd, 6, ask_for_chore, &all);
    testing_crowd_await_asleep(&crowd, 6); /* one of them inside the function */
    ck_assert_int_eq(__atomic_load_n(&all.begun, __ATOMIC_SEQ_CST), 1);
    ck_assert(!mtask_once_is_done(&all.once));
    mtask_event_set(&all.let_go);
    testing_crowd_join(&crowd);
    ck_assert_int_eq(all.begun, 1);
    ck_assert(mtask_once_is_done(&all.once));
    for (int i = 0; i < 6; i++) {
        ck_assert_status(crowd.members[i].status, MTASK_OK);
        ck_assert_int_eq(crowd.members[i].number, 42);
    }
}
END_TEST

START_TEST(once_that_failed_is_tried_again_by_the_next_caller) {
    chore all = {.failures = 2};
    ck_assert_status(mtask_once(&all.once, do_chore, &all), MTASK_FAILED);
    ck_assert(!mtask_once_is_done(&all.once));
    ck_assert_status(mtask_once(&all.once, do_chore, &all), MTASK_FAILED);
    ck_assert_status(mtask_once(&all.once, do_chore, &all), MTASK_OK);
    ck_assert_status(mtask_once(&all.once, do_chore, &all), MTASK_OK);
    ck_assert_int_eq(all.begun, 3);
}
END_TEST

START_TEST(once_that_failed_is_tried_again_by_those_who_wait) {
    chore all = {.failures = 2, .held_up = true};
    testing_crowd crowd;
    testing_crowd_start(&crowd, 5, ask_for_chore, &all);
    testing_crowd_await_asleep(&crowd, 5);
    mtask_event_set(&all.let_go);
    testing_crowd_join(&crowd);
    ck_assert_int_eq(all.begun, 3);
    ck_assert_int_eq(testing_crowd_count(&crowd, MTASK_FAILED), 2); /* who ran it, not who waited */
    ck_assert_int_eq(testing_crowd_count(&crowd, MTASK_OK), 3);
    ck_assert(mtask_once_is_done(&all.once));
}
END_TEST

START_TEST(once_wait_goes_on_after_signals_and_uses_no_cpu) {
    chore all = {.held_up = true};
    testing_crowd crowd;
    testing_catch_signals();
    testing_crowd_start(&crowd, 1, ask_for_chore, &all);
    testing_await_asleep(&crowd.members[0]);
    (void)testing_crowd_add(&crowd, ask_for_chore, &all);
    testing_interrupt(&crowd.members[1]);
    ck_assert_int_eq(testing_crowd_finished(&crowd), 0);
    testing_check_idle(&crowd.members[1]);
    mtask_event_set(&all.let_go);
    testing_crowd_join(&crowd);
    ck_assert_int_eq(testing_crowd_count(&crowd, MTASK_OK), 2);
}
END_TEST

START_TEST(once_is_usable_in_a_forked_child) {
    chore all[2] = {{.begun = 0}, {.begun = 0}};
    int status = 0;
    pid_t pid;
    ck_assert_status(mtask_once(&all[0].once, do_chore, &all[0]), MTASK_OK);
    pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        mtask_status first = mtask_once(&all[0].once, do_chore, &all[0]);
        mtask_status second = mtask_once(&all[1].once, do_chore, &all[1]);
        _exit(first != MTASK_OK || second != MTASK_OK || all[0].begun != 1 || all[1].begun != 1);
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_int_eq(status, 0);
}
END_TEST

/* Many flags, three threads that hurry from one to the next, functions that fail now and then. */
typedef struct chores {
    chore *all;
    int count;
} chores;

static void hurry_through(testing_member *self) {
    chores *list = (chores *)self->arg;
    for (int i = 0; i < list->count; i++) {
        chore *each = &list->all[i];
        while (mtask_once(&each->once, do_chore, each) != MTASK_OK)
            self->number++;
        testing_check(each->result == 42);
        testing_check(mtask_once_is_done(&each->once));
    }
}

START_TEST(once_runs_each_of_many_to_success_just_once) {
    chores list = {NULL, (int)testing_scale(20000)};
    testing_crowd crowd;
    long failures = 0;
    list.all = (chore *)calloc((size_t)list.count, sizeof *list.all);
    ck_assert_ptr_nonnull(list.all);
    for (int i = 0; i < list.count; i++)
        list.all[i].failures = i % 7 == 0 ? 2 : 0;
    testing_crowd_start(&crowd, 3, hurry_through, &list);
    testing_crowd_join(&crowd);
    for (int i = 0; i < list.count; i++) {
        ck_assert_int_eq(list.all[i].begun, list.all[i].failures + 1);
        failures += list.all[i].failures;
    }
    for (int i = 0; i < 3; i++)
        failures -= crowd.members[i].number;
    ck_assert_int_eq(failures, 0);
    free(list.all);
}
END_TEST

typedef struct leaver {
    testing_random *random;
    bool ran;
} leaver;

static void *note_who_ran(void *arg) {
    leaver *self = (leaver *)arg;
    testing_dawdle(self->random, 12000); /* the other goes to sleep */
    self->ran = true;
    return NULL;
}

/* Who finds it done by the other frees it: the other may still be inside its call. */
static bool free_unless_run_here(void *object, int player, testing_random *random) {
    leaver self = {random, false};
    (void)player;
    ck_assert_status(mtask_once((mtask_once_flag *)object, note_who_ran, &self), MTASK_OK);
    return !self.ran;
}

START_TEST(once_may_be_freed_by_the_one_who_waited) {
    testing_play(sizeof(mtask_once_flag), NULL, free_unless_run_here);
}
END_TEST

/* ---- wait group ---- */

START_TEST(waitgroup_is_four_bytes_and_zero_when_zeroed) {
    static mtask_waitgroup group;
    ck_assert_uint_eq(sizeof group, 4);
    ck_assert_uint_eq(mtask_waitgroup_count(&group), 0);
    ck_assert_status(mtask_waitgroup_wait(&group, MTASK_FOREVER), MTASK_OK);
    ck_assert_status(mtask_waitgroup_add(&group, 3), MTASK_OK);
    ck_assert_status(mtask_waitgroup_add(&group, -1), MTASK_OK);
    ck_assert_uint_eq(mtask_waitgroup_count(&group), 2);
    ck_assert_status(mtask_waitgroup_wait(&group, MTASK_NOWAIT), MTASK_TIMEOUT);
    ck_assert_status(mtask_waitgroup_done(&group), MTASK_OK);
    ck_assert_status(mtask_waitgroup_done(&group), MTASK_OK);
    ck_assert_status(mtask_waitgroup_wait(&group, MTASK_NOWAIT), MTASK_OK);
}
END_TEST

START_TEST(waitgroup_init_makes_it_zero_and_refuses_unknown_flags) {
    mtask_waitgroup group;
    memset(&group, 0xff, sizeof group);
    ck_assert_status(mtask_waitgroup_init(&group, MTASK_PRIVATE), MTASK_OK);
    ck_assert_uint_eq(mtask_waitgroup_count(&group), 0);
    ck_assert_status(mtask_waitgroup_wait(&group, MTASK_NOWAIT), MTASK_OK);
    ck_assert_status(mtask_waitgroup_init(&group, 2), MTASK_INVALID);
    ck_assert_status(mtask_waitgroup_init(&group, 4), MTASK_INVALID);
    ck_assert_status(mtask_waitgroup_init(&group, -1), MTASK_INVALID);
}
END_TEST

START_TEST(waitgroup_count_stays_in_its_range) {
    const int64_t most = (INT64_C(1) << 30) - 1;
    mtask_waitgroup group = {0};
    ck_assert_status(mtask_waitgroup_done(&group), MTASK_OVERFLOW);
    ck_assert_status(mtask_waitgroup_add(&group, -1), MTASK_OVERFLOW);
    ck_assert_status(mtask_waitgroup_add(&group, INT64_MIN), MTASK_OVERFLOW);
    ck_assert_status(mtask_waitgroup_add(&group, most + 1), MTASK_OVERFLOW);
    ck_assert_status(mtask_waitgroup_add(&group, INT64_C(1) << 32), MTASK_OVERFLOW);
    ck_assert_status(mtask_waitgroup_add(&group, INT64_MAX), MTASK_OVERFLOW);
    ck_assert_uint_eq(mtask_waitgroup_count(&group), 0);
    ck_assert_status(mtask_waitgroup_add(&group, 0), MTASK_OK);
    ck_assert_status(mtask_waitgroup_add(&group, most), MTASK_OK);
    ck_assert_status(mtask_waitgroup_add(&group, 1), MTASK_OVERFLOW);
    ck_assert_status(mtask_waitgroup_add(&group, -most - 1), MTASK_OVERFLOW);
    ck_assert_uint_eq(mtask_waitgroup_count(&group), (uint32_t)most);
    ck_assert_status(mtask_waitgroup_add(&group, -most), MTASK_OK);
    ck_assert_uint_eq(mtask_waitgroup_count(&group), 0);
}
END_TEST

START_TEST(waitgroup_refuses_negative_timeouts_even_at_zero) {
    mtask_waitgroup group = {0};
    ck_assert_status(mtask_waitgroup_wait(&group, -1), MTASK_INVALID);
    ck_assert_status(mtask_waitgroup_add(&group, 1), MTASK_OK);
    ck_assert_status(mtask_waitgroup_wait(&group, INT64_MIN), MTASK_INVALID);
    ck_assert_uint_eq(mtask_waitgroup_count(&group), 1);
}
END_TEST

static void wait_for_group(testing_member *self) {
    self->status = mtask_waitgroup_wait((mtask_waitgroup *)self->arg, MTASK_FOREVER);
}

START_TEST(waitgroup_releases_all_waiters_at_zero_and_not_before) {
    mtask_waitgroup group = {0};
    testing_crowd crowd;
    for (int round = 0; round < 2; round++) { /* the next batch, when all have returned */
        ck_assert_status(mtask_waitgroup_add(&group, 3), MTASK_OK);
        testing_crowd_start(&crowd, 5, wait_for_group, &group);
        testing_crowd_await_asleep(&crowd, 5);
        ck_assert_status(mtask_waitgroup_add(&group, 1), MTASK_OK);
        ck_assert_status(mtask_waitgroup_add(&group, -3), MTASK_OK);
        testing_crowd_await_asleep(&crowd, 5);
        ck_assert_status(mtask_waitgroup_done(&group), MTASK_OK);
        testing_crowd_join(&crowd);
        ck_assert_int_eq(testing_crowd_count(&crowd, MTASK_OK), 5);
        ck_assert_uint_eq(group.word, 0);
    }
}
END_TEST

static void wait_for_group_20_ms(testing_member *self) {
    int64_t start = mtask_now();
    self->status = mtask_waitgroup_wait((mtask_waitgroup *)self->arg, MTASK_MS(20));
    self->took = mtask_now() - start;
}

START_TEST(waitgroup_timeout_takes_its_time_and_changes_nothing) {
    mtask_waitgroup group = {0};
    testing_crowd crowd;
    ck_assert_status(mtask_waitgroup_add(&group, 2), MTASK_OK);
    testing_crowd_start(&crowd, 3, wait_for_group_20_ms, &group);
    testing_crowd_join(&crowd);
    ck_assert_int_eq(testing_crowd_count(&crowd, MTASK_TIMEOUT), 3);
    for (int i = 0; i < 3; i++)
        ck_assert_int_ge(crowd.members[i].took, MTASK_MS(20));
    ck_assert_uint_eq(mtask_waitgroup_count(&group), 2);
    ck_assert_status(mtask_waitgroup_add(&group, -2), MTASK_OK);
    ck_assert_status(mtask_waitgroup_wait(&group, MTASK_NOWAIT), MTASK_OK);
}
END_TEST

START_TEST(waitgroup_wait_goes_on_after_signals_and_uses_no_cpu) {
    mtask_waitgroup group = {0};
    testing_crowd crowd;
    testing_catch_signals();
    ck_assert_status(mtask_waitgroup_add(&group, 1), MTASK_OK);
    testing_crowd_start(&crowd, 1, wait_for_group, &group);
    testing_interrupt(&crowd.members[0]);
    ck_assert_int_eq(testing_crowd_finished(&crowd), 0);
    testing_check_idle(&crowd.members[0]);
    ck_assert_status(mtask_waitgroup_done(&group), MTASK_OK);
    testing_crowd_join(&crowd);
    ck_assert_status(crowd.members[0].status, MTASK_OK);
}
END_TEST

/* Batch after batch: all that the workers wrote is there when the wait returns. */
typedef struct batches {
    mtask_waitgroup work;
    mtask_sem start;
    int written[4];
    long rounds;
    uint64_t seed;
} batches;

static void work_in_batches(testing_member *self) {
    batches *all = (batches *)self->arg;
    for (long i = 0; i < all->rounds; i++) {
        ck_assert_status(mtask_sem_acquire(&all->start, MTASK_FOREVER), MTASK_OK);
        __atomic_fetch_add(&all->written[self->index], 1, __ATOMIC_RELAXED);
        ck_assert_status(mtask_waitgroup_done(&all->work), MTASK_OK);
    }
}

START_TEST(waitgroup_loses_no_done_batch_after_batch) {
    batches all = {.rounds = testing_scale(4000), .seed = testing_seed()};
    testing_random random = testing_random_make(all.seed, 0);
    testing_crowd crowd;
    testing_crowd_start(&crowd, 4, work_in_batches, &all);
    for (long i = 0; i < all.rounds; i++) {
        int done = 0;
        ck_assert_status(mtask_waitgroup_add(&all.work, 4), MTASK_OK);
        ck_assert_status(mtask_sem_release(&all.start, 4), MTASK_OK);
        while (testing_below(&random, 3) == 0) /* now and then with a time-out that is too short */
            if (mtask_waitgroup_wait(&all.work, (int64_t)testing_below(&random, 20000)) == MTASK_OK)
                break;
        ck_assert_status(mtask_waitgroup_wait(&all.work, MTASK_FOREVER), MTASK_OK);
        for (int k = 0; k < 4; k++)
            done += __atomic_load_n(&all.written[k], __ATOMIC_RELAXED);
        testing_check(done == 4 * (i + 1));
    }
    testing_crowd_join(&crowd);
    ck_assert_uint_eq(mtask_waitgroup_count(&all.work), 0);
}
END_TEST

static void init_group_of_one(void *object) {
    ck_assert_status(mtask_waitgroup_add((mtask_waitgroup *)object, 1), MTASK_OK);
}

static bool leave_group(void *object, int player, testing_random *random) {
    mtask_waitgroup *group = (mtask_waitgroup *)object;
    (void)random;
    if (player == 1)
        ck_assert_status(mtask_waitgroup_wait(group, MTASK_FOREVER), MTASK_OK);
    else
        ck_assert_status(mtask_waitgroup_done(group), MTASK_OK);
    return player == 1;
}

START_TEST(waitgroup_may_be_freed_by_the_one_who_waited) {
    testing_play(sizeof(mtask_waitgroup), init_group_of_one, leave_group);
}
END_TEST

TESTING_MAIN("once_waitgroup", once_is_four_bytes_and_has_not_run_when_zeroed,
             once_init_makes_it_new_and_refuses_unknown_flags,
             once_runs_once_however_many_ask_and_all_wait_for_it,
             once_that_failed_is_tried_again_by_the_next_caller,
             once_that_failed_is_tried_again_by_those_who_wait,
             once_wait_goes_on_after_signals_and_uses_no_cpu, once_is_usable_in_a_forked_child,
             once_runs_each_of_many_to_success_just_once, once_may_be_freed_by_the_one_who_waited,
             waitgroup_is_four_bytes_and_zero_when_zeroed,
             waitgroup_init_makes_it_zero_and_refuses_unknown_flags,
             waitgroup_count_stays_in_its_range, waitgroup_refuses_negative_timeouts_even_at_zero,
             waitgroup_releases_all_waiters_at_zero_and_not_before,
             waitgroup_timeout_takes_its_time_and_changes_nothing,
             waitgroup_wait_goes_on_after_signals_and_uses_no_cpu,
             waitgroup_loses_no_done_batch_after_batch,
             waitgroup_may_be_freed_by_the_one_who_waited)
