/* test_mtask_cond.c - the condition variable */
#include "testing_threads.h"

#include <sys/wait.h>

/* A mutex, a condition, and what happened there. All plain fields are guarded by the mutex. */
typedef struct room {
    mtask_mutex mutex;
    mtask_rmutex rmutex;
    mtask_cond cond;
    int entered; /* how many waits have begun */
    int left;    /* and ended */
    int order[TESTING_CROWD_MAX];
    int phase;
    int state;
    int first[4], second[4]; /* how many left their first, second wait in each phase */
    int64_t timeouts[TESTING_CROWD_MAX];
} room;

/* Reads a field under the mutex. */
static int look(room *all, const int *field) {
    int value;
    ck_assert_status(mtask_mutex_lock(&all->mutex), MTASK_OK);
    value = *field;
    ck_assert_status(mtask_mutex_unlock(&all->mutex), MTASK_OK);
    return value;
}

/* Returns when the field has reached `value`. A waiter that was counted with the mutex held is
   surely in the condition's queue when the mutex can be had. */
static void await_count(room *all, const int *field, int value) {
    while (look(all, field) < value)
        sched_yield();
}

/* Waits once, with the time-out of its index (0: for ever). */
static void wait_once(testing_member *self) {
    room *all = (room *)self->arg;
    int64_t timeout = all->timeouts[self->index];
    ck_assert_status(mtask_mutex_lock(&all->mutex), MTASK_OK);
    all->entered++;
    self->status = mtask_cond_wait(&all->cond, &all->mutex, timeout == 0 ? MTASK_FOREVER : timeout);
    testing_check(mtask_mutex_is_locked(&all->mutex));
    if (self->status == MTASK_OK)
        all->order[all->left++] = self->index;
    ck_assert_status(mtask_mutex_unlock(&all->mutex), MTASK_OK);
}

START_TEST(condition_is_small_and_ready_when_zeroed) {
    static mtask_cond cond;
    mtask_mutex mutex = {0};
    ck_assert_uint_le(sizeof cond, 16);
    ck_assert_status(mtask_cond_notify(&cond, 1), MTASK_OK);
    ck_assert_status(mtask_cond_notify_all(&cond), MTASK_OK);
    ck_assert_status(mtask_mutex_lock(&mutex), MTASK_OK);
    ck_assert_status(mtask_cond_wait(&cond, &mutex, MTASK_NOWAIT), MTASK_TIMEOUT);
    ck_assert(mtask_mutex_is_locked(&mutex));
    ck_assert_status(mtask_mutex_unlock(&mutex), MTASK_OK);
}
END_TEST

START_TEST(condition_init_refuses_unknown_flags) {
    mtask_cond cond;
    memset(&cond, 0xff, sizeof cond);
    ck_assert_status(mtask_cond_init(&cond, MTASK_PRIVATE), MTASK_OK);
    ck_assert_status(mtask_cond_notify_all(&cond), MTASK_OK);
    ck_assert_status(mtask_cond_init(&cond, 4), MTASK_INVALID);
    ck_assert_status(mtask_cond_init(&cond, -1), MTASK_INVALID);
}
END_TEST

START_TEST(condition_wait_needs_the_lock) {
    room all = {.phase = 0};
    ck_assert_status(mtask_cond_wait(&all.cond, &all.mutex, MTASK_FOREVER), MTASK_INVALID);
    ck_assert(!mtask_mutex_is_locked(&all.mutex));
    ck_assert_status(mtask_cond_wait_rmutex(&all.cond, &all.rmutex, MTASK_FOREVER),
                     MTASK_NOT_OWNER);
    ck_assert(!mtask_rmutex_is_locked(&all.rmutex));
    ck_assert_status(mtask_cond_notify(&all.cond, 1), MTASK_OK); /* nobody is left in the queue */
}
END_TEST

static void wait_with_rmutex_of_another(testing_member *self) {
    room *all = (room *)self->arg;
    self->status = mtask_cond_wait_rmutex(&all->cond, &all->rmutex, MTASK_FOREVER);
}

START_TEST(condition_wait_needs_the_rmutex_to_be_the_callers) {
    room all = {.phase = 0};
    testing_crowd crowd;
    ck_assert_status(mtask_rmutex_lock(&all.rmutex), MTASK_OK);
    testing_crowd_start(&crowd, 1, wait_with_rmutex_of_another, &all);
    testing_crowd_join(&crowd);
    ck_assert_status(crowd.members[0].status, MTASK_NOT_OWNER);
    ck_assert_uint_eq(mtask_rmutex_count(&all.rmutex), 1);
}
END_TEST

START_TEST(condition_wait_refuses_negative_timeouts_and_keeps_the_lock) {
    room all = {.phase = 0};
    ck_assert_status(mtask_mutex_lock(&all.mutex), MTASK_OK);
    ck_assert_status(mtask_cond_wait(&all.cond, &all.mutex, -1), MTASK_INVALID);
    ck_assert_status(mtask_cond_wait(&all.cond, &all.mutex, INT64_MIN), MTASK_INVALID);
    ck_assert(mtask_mutex_is_locked(&all.mutex));
    ck_assert_status(mtask_rmutex_lock(&all.rmutex), MTASK_OK);
    ck_assert_status(mtask_rmutex_lock(&all.rmutex), MTASK_OK);
    ck_assert_status(mtask_cond_wait_rmutex(&all.cond, &all.rmutex, -1), MTASK_INVALID);
    ck_assert_uint_eq(mtask_rmutex_count(&all.rmutex), 2);
}
END_TEST

START_TEST(condition_notify_refuses_a_negative_number_and_may_wake_none) {
    room all = {.phase = 0};
    testing_crowd crowd;
    testing_crowd_start(&crowd, 1, wait_once, &all);
    await_count(&all, &all.entered, 1);
    ck_assert_status(mtask_cond_notify(&all.cond, -1), MTASK_INVALID);
    ck_assert_status(mtask_cond_notify(&all.cond, 0), MTASK_OK);
    testing_await_asleep(&crowd.members[0]);
    ck_assert_int_eq(look(&all, &all.left), 0);
    ck_assert_status(mtask_cond_notify(&all.cond, INT32_MAX), MTASK_OK);
    testing_crowd_join(&crowd);
    ck_assert_status(crowd.members[0].status, MTASK_OK);
}
END_TEST

static void wait_twice(testing_member *self) {
    room *all = (room *)self->arg;
    for (int i = 0; i < 2; i++) {
        ck_assert_status(mtask_mutex_lock(&all->mutex), MTASK_OK);
        all->entered++;
        ck_assert_status(mtask_cond_wait(&all->cond, &all->mutex, MTASK_FOREVER), MTASK_OK);
        ++*(i == 0 ? &all->first[all->phase] : &all->second[all->phase]);
        all->left++;
        ck_assert_status(mtask_mutex_unlock(&all->mutex), MTASK_OK);
    }
}

static void notify_in_phase(room *all, int phase, int n) {
    ck_assert_status(mtask_mutex_lock(&all->mutex), MTASK_OK);
    ck_assert_status(mtask_cond_notify(&all->cond, n), MTASK_OK);
    testing_pause(2); /* nobody leaves before the mutex is unlocked, though the phase is the old */
    all->phase = phase;
    ck_assert_status(mtask_mutex_unlock(&all->mutex), MTASK_OK);
}

/* Five threads wait twice each; 3, 5 and all are notified. */
static void notify_three_five_and_all(room *all) {
    testing_crowd crowd;
    testing_crowd_start(&crowd, 5, wait_twice, all);
    await_count(all, &all->entered, 5);
    notify_in_phase(all, 1, 3);
    await_count(all, &all->entered, 8); /* three wait again, behind the two who still wait */
    testing_crowd_await_asleep(&crowd, 5);
    ck_assert_int_eq(look(all, &all->left), 3);
    ck_assert_int_eq(look(all, &all->first[1]), 3);
    notify_in_phase(all, 2, 5);
    await_count(all, &all->entered, 10);
    testing_await_finished(&crowd, 3);
    testing_crowd_await_asleep(&crowd, 2);
    ck_assert_int_eq(look(all, &all->left), 8);
    ck_assert_status(mtask_mutex_lock(&all->mutex), MTASK_OK);
    ck_assert_status(mtask_cond_notify_all(&all->cond), MTASK_OK);
    all->phase = 3;
    ck_assert_status(mtask_mutex_unlock(&all->mutex), MTASK_OK);
    testing_crowd_join(&crowd);
    ck_assert_int_eq(all->first[1], 3);
    ck_assert_int_eq(all->first[2], 2);
    ck_assert_int_eq(all->second[2], 3);
    ck_assert_int_eq(all->second[3], 2);
}

START_TEST(condition_notifies_three_then_five_then_all_exactly) {
    room all = {.phase = 0};
    notify_three_five_and_all(&all);
    memset(all.first, 0, sizeof all.first); /* and again: it is left in order */
    memset(all.second, 0, sizeof all.second);
    all.entered = all.left = all.phase = 0;
    notify_three_five_and_all(&all);
}
END_TEST

START_TEST(condition_forgets_a_notify_that_found_nobody) {
    room all = {.phase = 0};
    testing_crowd crowd;
    all.timeouts[0] = MTASK_MS(20);
    ck_assert_status(mtask_cond_notify(&all.cond, 3), MTASK_OK);
    ck_assert_status(mtask_cond_notify_all(&all.cond), MTASK_OK);
    testing_crowd_start(&crowd, 1, wait_once, &all);
    testing_crowd_join(&crowd);
    ck_assert_status(crowd.members[0].status, MTASK_TIMEOUT);
    testing_crowd_start(&crowd, 2, wait_once, &all);
    await_count(&all, &all.entered, 3);
    ck_assert_status(mtask_cond_notify(&all.cond, 7), MTASK_OK); /* more than wait */
    testing_crowd_join(&crowd);
    testing_crowd_start(&crowd, 1, wait_once, &all);
    testing_crowd_join(&crowd);
    ck_assert_status(crowd.members[0].status, MTASK_TIMEOUT);
}
END_TEST

/* Starts `count` waiters, which are in the queue in the order of their indices. */
static void queue_up(room *all, testing_crowd *crowd, int count) {
    crowd->count = 0;
    for (int i = 0; i < count; i++) {
        (void)testing_crowd_add(crowd, wait_once, all);
        await_count(all, &all->entered, i + 1);
    }
}

START_TEST(condition_wakes_in_the_order_of_waiting) {
    room all = {.phase = 0};
    testing_crowd crowd;
    queue_up(&all, &crowd, 8);
    for (int i = 0; i < 8; i++) {
        ck_assert_status(mtask_cond_notify(&all.cond, 1), MTASK_OK);
        await_count(&all, &all.left, i + 1);
        ck_assert_int_eq(all.order[i], i);
    }
    testing_crowd_join(&crowd);
}
END_TEST

START_TEST(condition_wakes_the_longest_waiting_of_many) {
    room all = {.phase = 0};
    testing_crowd crowd;
    int woken = 0;
    queue_up(&all, &crowd, 7);
    ck_assert_status(mtask_cond_notify(&all.cond, 4), MTASK_OK);
    await_count(&all, &all.left, 4);
    for (int i = 0; i < 4; i++)
        woken |= 1 << all.order[i]; /* these compete for the mutex: any order */
    ck_assert_int_eq(woken, 15);
    ck_assert_status(mtask_cond_notify_all(&all.cond), MTASK_OK);
    testing_crowd_join(&crowd);
    ck_assert_int_eq(all.left, 7);
}
END_TEST

START_TEST(condition_keeps_the_order_when_some_give_up) {
    const int stay[] = {1, 2, 4};
    room all = {.phase = 0};
    testing_crowd crowd;
    all.timeouts[0] = all.timeouts[3] = all.timeouts[5] = MTASK_MS(30);
    queue_up(&all, &crowd, 6);
    testing_await_finished(&crowd, 3);
    ck_assert_int_eq(look(&all, &all.left), 0);
    for (int i = 0; i < 3; i++) {
        ck_assert_status(mtask_cond_notify(&all.cond, 1), MTASK_OK);
        await_count(&all, &all.left, i + 1);
        ck_assert_int_eq(all.order[i], stay[i]);
    }
    testing_crowd_join(&crowd);
    ck_assert_status(mtask_cond_notify_all(&all.cond), MTASK_OK);
    ck_assert_int_eq(testing_crowd_count(&crowd, MTASK_TIMEOUT), 3);
}
END_TEST

static void wait_20_ms(testing_member *self) {
    room *all = (room *)self->arg;
    int64_t start = mtask_now();
    ck_assert_status(mtask_mutex_lock(&all->mutex), MTASK_OK);
    self->status = mtask_cond_wait(&all->cond, &all->mutex, MTASK_MS(20));
    self->took = mtask_now() - start;
    ck_assert_status(mtask_mutex_unlock(&all->mutex), MTASK_OK);
}

START_TEST(condition_timeout_takes_its_time) {
    room all = {.phase = 0};
    testing_crowd crowd;
    testing_crowd_start(&crowd, 5, wait_20_ms, &all);
    testing_crowd_join(&crowd);
    ck_assert_int_eq(testing_crowd_count(&crowd, MTASK_TIMEOUT), 5);
    for (int i = 0; i < 5; i++)
        ck_assert_int_ge(crowd.members[i].took, MTASK_MS(20));
    ck_assert(!mtask_mutex_is_locked(&all.mutex));
}
END_TEST

static void wait_10_ms(testing_member *self) {
    room *all = (room *)self->arg;
    ck_assert_status(mtask_mutex_lock(&all->mutex), MTASK_OK);
    all->state = 1;
    self->status = mtask_cond_wait(&all->cond, &all->mutex, MTASK_MS(10));
    all->state = 2;
    ck_assert_status(mtask_mutex_unlock(&all->mutex), MTASK_OK);
}

START_TEST(condition_has_the_lock_again_when_the_time_is_up) {
    for (int seen = 0; seen != 1;) { /* again, if this thread came too late to see it wait */
        room all = {.phase = 0};
        testing_crowd crowd;
        testing_crowd_start(&crowd, 1, wait_10_ms, &all);
        await_count(&all, &all.state, 1);
        ck_assert_status(mtask_mutex_lock(&all.mutex), MTASK_OK);
        seen = all.state;
        testing_pause(25);
        ck_assert_int_eq(all.state, seen);
        ck_assert_status(mtask_mutex_unlock(&all.mutex), MTASK_OK);
        testing_crowd_join(&crowd);
        ck_assert_status(crowd.members[0].status, MTASK_TIMEOUT);
        ck_assert_int_eq(all.state, 2);
    }
}
END_TEST

static void wait_at_depth_three(testing_member *self) {
    room *all = (room *)self->arg;
    for (int i = 0; i < 3; i++)
        ck_assert_status(mtask_rmutex_lock(&all->rmutex), MTASK_OK);
    __atomic_store_n(&all->entered, 1, __ATOMIC_SEQ_CST);
    self->status = mtask_cond_wait_rmutex(&all->cond, &all->rmutex, MTASK_FOREVER);
    self->number = (long)mtask_rmutex_count(&all->rmutex);
    for (int i = 0; i < 3; i++)
        ck_assert_status(mtask_rmutex_unlock(&all->rmutex), MTASK_OK);
}

START_TEST(condition_lets_go_of_all_depths_of_a_rmutex_and_takes_them_back) {
    room all = {.phase = 0};
    testing_crowd crowd;
    testing_crowd_start(&crowd, 1, wait_at_depth_three, &all);
    while (__atomic_load_n(&all.entered, __ATOMIC_SEQ_CST) == 0)
        sched_yield();
    ck_assert_status(mtask_rmutex_lock(&all.rmutex), MTASK_OK); /* only the wait lets go of it */
    ck_assert_uint_eq(mtask_rmutex_count(&all.rmutex), 1);
    ck_assert_status(mtask_cond_notify(&all.cond, 1), MTASK_OK);
    testing_await_asleep(&crowd.members[0]); /* woken, and waiting for the rmutex */
    ck_assert_int_eq(testing_crowd_finished(&crowd), 0);
    ck_assert_status(mtask_rmutex_unlock(&all.rmutex), MTASK_OK);
    testing_crowd_join(&crowd);
    ck_assert_status(crowd.members[0].status, MTASK_OK);
    ck_assert_int_eq(crowd.members[0].number, 3);
    ck_assert(!mtask_rmutex_is_locked(&all.rmutex));
}
END_TEST

START_TEST(condition_takes_a_rmutex_back_at_all_depths_after_a_timeout) {
    room all = {.phase = 0};
    for (int i = 0; i < 3; i++)
        ck_assert_status(mtask_rmutex_lock(&all.rmutex), MTASK_OK);
    ck_assert_status(mtask_cond_wait_rmutex(&all.cond, &all.rmutex, MTASK_MS(5)), MTASK_TIMEOUT);
    ck_assert_status(mtask_cond_wait_rmutex(&all.cond, &all.rmutex, MTASK_NOWAIT), MTASK_TIMEOUT);
    ck_assert_uint_eq(mtask_rmutex_count(&all.rmutex), 3);
    for (int i = 0; i < 3; i++)
        ck_assert_status(mtask_rmutex_unlock(&all.rmutex), MTASK_OK);
    ck_assert_status(mtask_rmutex_unlock(&all.rmutex), MTASK_NOT_OWNER);
}
END_TEST

/* ---- MTASK_COND_WAIT_FOR ---- */

static void wait_for_state_four(testing_member *self) {
    room *all = (room *)self->arg;
    int64_t start = mtask_now();
    ck_assert_status(mtask_mutex_lock(&all->mutex), MTASK_OK);
    all->entered++;
    MTASK_COND_WAIT_FOR(self->status, &all->cond, &all->mutex,
                        all->timeouts[0] == 0 ? MTASK_FOREVER : all->timeouts[0], all->state == 4);
    self->number = all->state;
    self->took = mtask_now() - start;
    ck_assert_status(mtask_mutex_unlock(&all->mutex), MTASK_OK);
}

static void count_up(room *all, int times) {
    for (int i = 0; i < times; i++) {
        ck_assert_status(mtask_mutex_lock(&all->mutex), MTASK_OK);
        all->state++;
        ck_assert_status(mtask_cond_notify(&all->cond, 1), MTASK_OK);
        ck_assert_status(mtask_mutex_unlock(&all->mutex), MTASK_OK);
        testing_pause(2);
    }
}

START_TEST(wait_for_goes_on_until_the_predicate_holds) {
    room all = {.phase = 0};
    testing_crowd crowd;
    testing_crowd_start(&crowd, 1, wait_for_state_four, &all);
    await_count(&all, &all.entered, 1);
    count_up(&all, 3);
    testing_await_asleep(&crowd.members[0]);
    ck_assert_int_eq(testing_crowd_finished(&crowd), 0);
    count_up(&all, 1);
    testing_crowd_join(&crowd);
    ck_assert_status(crowd.members[0].status, MTASK_OK);
    ck_assert_int_eq(crowd.members[0].number, 4);
}
END_TEST

START_TEST(wait_for_times_out_as_a_whole_however_often_it_is_notified) {
    room all = {.phase = 0};
    testing_crowd crowd;
    all.timeouts[0] = MTASK_MS(30);
    testing_crowd_start(&crowd, 1, wait_for_state_four, &all);
    await_count(&all, &all.entered, 1);
    count_up(&all, 3);
    while (testing_crowd_finished(&crowd) == 0) { /* notified for as long as it takes */
        ck_assert_status(mtask_cond_notify(&all.cond, 1), MTASK_OK);
        testing_pause(1);
    }
    testing_crowd_join(&crowd);
    ck_assert_status(crowd.members[0].status, MTASK_TIMEOUT);
    ck_assert_int_ge(crowd.members[0].took, MTASK_MS(30));
}
END_TEST

START_TEST(wait_for_is_content_if_the_predicate_holds_when_the_time_is_up) {
    room all = {.phase = 0};
    mtask_status status;
    int64_t start = mtask_now();
    int looks = 0;
    ck_assert_status(mtask_mutex_lock(&all.mutex), MTASK_OK);
    MTASK_COND_WAIT_FOR(status, &all.cond, &all.mutex, MTASK_MS(10), ++looks == 2);
    ck_assert_status(status, MTASK_OK);
    ck_assert_int_eq(looks, 2);
    ck_assert_int_ge(mtask_now() - start, MTASK_MS(10));
}
END_TEST

START_TEST(wait_for_looks_at_the_predicate_before_it_waits) {
    room all = {.phase = 0};
    mtask_status status;
    int looks = 0;
    ck_assert_status(mtask_mutex_lock(&all.mutex), MTASK_OK);
    MTASK_COND_WAIT_FOR(status, &all.cond, &all.mutex, MTASK_FOREVER, ++looks > 0);
    ck_assert_status(status, MTASK_OK);
    ck_assert_int_eq(looks, 1);
    MTASK_COND_WAIT_FOR(status, &all.cond, &all.mutex, MTASK_NOWAIT, all.state == 0);
    ck_assert_status(status, MTASK_OK);
    MTASK_COND_WAIT_FOR(status, &all.cond, &all.mutex, MTASK_NOWAIT, all.state == 1);
    ck_assert_status(status, MTASK_TIMEOUT);
    MTASK_COND_WAIT_FOR(status, &all.cond, &all.mutex, -1, ++looks > 0);
    ck_assert_status(status, MTASK_INVALID);
    ck_assert_status(mtask_mutex_unlock(&all.mutex), MTASK_OK);
    MTASK_COND_WAIT_FOR(status, &all.cond, &all.mutex, MTASK_FOREVER, all.state == 1);
    ck_assert_status(status, MTASK_INVALID); /* the mutex is not held: it stops and says so */
}
END_TEST

/* ---- nothing spurious, nothing lost ---- */

START_TEST(condition_wait_is_not_ended_by_signals_and_uses_no_cpu) {
    room all = {.phase = 0};
    testing_crowd crowd;
    testing_catch_signals();
    testing_crowd_start(&crowd, 1, wait_once, &all);
    testing_interrupt(&crowd.members[0]);
    ck_assert_int_eq(testing_crowd_finished(&crowd), 0);
    testing_check_idle(&crowd.members[0]);
    ck_assert_status(mtask_cond_notify(&all.cond, 1), MTASK_OK);
    testing_crowd_join(&crowd);
    ck_assert_status(crowd.members[0].status, MTASK_OK);
}
END_TEST

/* Two threads hand a ball to and fro; any wake-up that is lost stops them. */
static void play_ball(testing_member *self) {
    room *all = (room *)self->arg;
    long rounds = testing_scale(10000);
    int64_t start = mtask_now();
    for (long i = 0; i < rounds; i++) {
        ck_assert_status(mtask_mutex_lock(&all->mutex), MTASK_OK);
        while (all->state != self->index && all->phase == 0)
            ck_assert_status(mtask_cond_wait(&all->cond, &all->mutex, MTASK_FOREVER), MTASK_OK);
        all->state = 1 - self->index;
        if (i + 1 == rounds || !testing_has_time(start))
            all->phase = 1; /* enough */
        if ((i & 1) == 0) {
            ck_assert_status(mtask_cond_notify(&all->cond, 1), MTASK_OK);
            ck_assert_status(mtask_mutex_unlock(&all->mutex), MTASK_OK);
        } else { /* without the mutex */
            ck_assert_status(mtask_mutex_unlock(&all->mutex), MTASK_OK);
            ck_assert_status(mtask_cond_notify(&all->cond, 1), MTASK_OK);
        }
        if (look(all, &all->phase) != 0)
            return;
    }
}

START_TEST(condition_loses_no_notify_between_two) {
    room all = {.phase = 0};
    testing_crowd crowd;
    testing_crowd_start(&crowd, 2, play_ball, &all);
    testing_crowd_join(&crowd);
}
END_TEST

/* Round after round a waiter whose time is about to be up stands first, one that waits for ever
   second, and one notify comes. */
typedef struct duel {
    room room;
    mtask_cond go;
    int round;
    int here;
    int gone[2];
    mtask_status statuses[2];
    int64_t timeout;
    bool over;
} duel;

static void stand_in_line(testing_member *self) {
    duel *all = (duel *)self->arg;
    int me = self->index;
    for (int round = 1;; round++) {
        ck_assert_status(mtask_mutex_lock(&all->room.mutex), MTASK_OK);
        MTASK_COND_WAIT_FOR(self->status, &all->go, &all->room.mutex, MTASK_FOREVER,
                            all->over || (all->round == round && all->here == me));
        if (all->over)
            break;
        all->here++;
        ck_assert_status(mtask_cond_notify_all(&all->go), MTASK_OK);
        all->statuses[me] = mtask_cond_wait(&all->room.cond, &all->room.mutex,
                                            me == 0 ? all->timeout : MTASK_FOREVER);
        all->gone[me] = round;
        ck_assert_status(mtask_mutex_unlock(&all->room.mutex), MTASK_OK);
    }
    ck_assert_status(mtask_mutex_unlock(&all->room.mutex), MTASK_OK);
}

static void begin_round(duel *all, int round, int64_t timeout) {
    ck_assert_status(mtask_mutex_lock(&all->room.mutex), MTASK_OK);
    all->round = round;
    all->here = 0;
    all->timeout = timeout;
    ck_assert_status(mtask_cond_notify_all(&all->go), MTASK_OK);
    ck_assert_status(mtask_mutex_unlock(&all->room.mutex), MTASK_OK);
    await_count(&all->room, &all->here, 2);
}

/* Exactly one of the two must have it. */
static void check_round(duel *all, int round) {
    await_count(&all->room, &all->gone[0], round);
    if (all->statuses[0] == MTASK_OK) {
        testing_check(look(&all->room, &all->gone[1]) < round);
        ck_assert_status(mtask_cond_notify(&all->room.cond, 1), MTASK_OK);
    } else {
        ck_assert_status(all->statuses[0], MTASK_TIMEOUT);
    }
    await_count(&all->room, &all->gone[1], round); /* a swallowed notify would hang here */
    ck_assert_status(all->statuses[1], MTASK_OK);
}

START_TEST(condition_waiter_that_times_out_swallows_no_notify) {
    duel all = {.round = 0};
    long rounds = testing_scale(5000);
    testing_random random = testing_random_make(testing_seed(), 0);
    testing_crowd crowd;
    int64_t start = mtask_now();
    testing_crowd_start(&crowd, 2, stand_in_line, &all);
    for (int round = 1; round <= rounds && testing_has_time(start); round++) {
        int64_t timeout = (int64_t)testing_below(&random, MTASK_US(120));
        begin_round(&all, round, timeout);
        mtask_sleep((int64_t)testing_below(&random, MTASK_US(60)));
        ck_assert_status(mtask_cond_notify(&all.room.cond, 1), MTASK_OK);
        check_round(&all, round);
    }
    ck_assert_status(mtask_mutex_lock(&all.room.mutex), MTASK_OK);
    all.over = true;
    ck_assert_status(mtask_cond_notify_all(&all.go), MTASK_OK);
    ck_assert_status(mtask_mutex_unlock(&all.room.mutex), MTASK_OK);
    testing_crowd_join(&crowd);
}
END_TEST

/* Some put tokens, some take them, with time-outs of every length. */
typedef struct market {
    mtask_mutex mutex;
    mtask_cond cond;
    long tokens, put, taken, woken, notified;
    int sellers;
    long rounds;
    uint64_t seed;
    int64_t start;
} market;

static void sell(market *all, testing_random *random) {
    for (long i = 0; i < all->rounds && testing_has_time(all->start); i++) {
        int n = (int)testing_below(random, 4);
        bool early = testing_below(random, 2) != 0;
        ck_assert_status(mtask_mutex_lock(&all->mutex), MTASK_OK);
        all->tokens += n;
        all->put += n;
        all->notified += n;
        if (early)
            ck_assert_status(mtask_cond_notify(&all->cond, n), MTASK_OK);
        ck_assert_status(mtask_mutex_unlock(&all->mutex), MTASK_OK);
        if (!early)
            ck_assert_status(mtask_cond_notify(&all->cond, n), MTASK_OK);
    }
    ck_assert_status(mtask_mutex_lock(&all->mutex), MTASK_OK);
    if (--all->sellers == 0)
        ck_assert_status(mtask_cond_notify_all(&all->cond), MTASK_OK);
    ck_assert_status(mtask_mutex_unlock(&all->mutex), MTASK_OK);
}

static void buy(market *all, testing_random *random, bool patient) {
    ck_assert_status(mtask_mutex_lock(&all->mutex), MTASK_OK);
    while (all->tokens > 0 || all->sellers > 0) {
        int64_t timeout = patient ? MTASK_FOREVER : (int64_t)testing_below(random, 100000);
        if (all->tokens > 0) {
            all->tokens--;
            all->taken++;
        } else if (mtask_cond_wait(&all->cond, &all->mutex, timeout) == MTASK_OK) {
            all->woken += all->sellers > 0; /* the last notify_all is not counted */
        }
    }
    ck_assert_status(mtask_mutex_unlock(&all->mutex), MTASK_OK);
}

static void trade(testing_member *self) {
    market *all = (market *)self->arg;
    testing_random random = testing_random_make(all->seed, (unsigned)self->index);
    if (self->index < 2)
        sell(all, &random);
    else
        buy(all, &random, self->index < 4);
}

START_TEST(condition_wakes_never_more_than_notified_and_loses_none) {
    market all = {.rounds = testing_scale(20000), .seed = testing_seed(), .sellers = 2};
    testing_crowd crowd;
    all.start = mtask_now();
    testing_crowd_start(&crowd, 6, trade, &all);
    testing_crowd_join(&crowd);
    ck_assert_int_eq(all.put, all.taken);
    ck_assert_int_le(all.woken, all.notified);
    ck_assert_status(mtask_cond_notify_all(&all.cond), MTASK_OK);
}
END_TEST

/* Many whose time is up just when all are notified: who leaves must not be written to any more. */
typedef struct crossing {
    mtask_mutex mutex;
    mtask_cond cond;
    mtask_word over;
    uint64_t seed;
} crossing;

/* Fills the stack where the wait was, and looks whether somebody else writes there. */
static __attribute__((noinline)) void guard_the_stack(testing_random *random) {
    volatile uint32_t stack[256];
    for (size_t i = 0; i < 256; i++)
        stack[i] = UINT32_C(0xa5a5a5a5);
    testing_dawdle(random, 2000);
    for (size_t i = 0; i < 256; i++)
        testing_check(stack[i] == UINT32_C(0xa5a5a5a5));
}

static void cross(testing_member *self) {
    crossing *all = (crossing *)self->arg;
    testing_random random = testing_random_make(all->seed, (unsigned)self->index);
    while (mtask_word_load(&all->over) == 0) {
        mtask_status status;
        ck_assert_status(mtask_mutex_lock(&all->mutex), MTASK_OK);
        status = mtask_cond_wait(&all->cond, &all->mutex, (int64_t)testing_below(&random, 100000));
        testing_check(status == MTASK_OK || status == MTASK_TIMEOUT);
        ck_assert_status(mtask_mutex_unlock(&all->mutex), MTASK_OK);
        guard_the_stack(&random);
    }
}

START_TEST(condition_leaves_alone_who_timed_out_while_all_are_notified) {
    crossing all = {.seed = testing_seed()};
    testing_random random = testing_random_make(all.seed, 99);
    testing_crowd crowd;
    int64_t start = mtask_now();
    testing_crowd_start(&crowd, 8, cross, &all);
    while (testing_has_time(start)) {
        mtask_sleep((int64_t)testing_below(&random, 50000));
        ck_assert_status(mtask_cond_notify_all(&all.cond), MTASK_OK);
    }
    mtask_word_store(&all.over, 1);
    testing_crowd_join(&crowd);
    ck_assert_status(mtask_cond_notify_all(&all.cond), MTASK_OK);
}
END_TEST

/* ---- fork, free ---- */

static bool use_condition_in_child(room *all) {
    testing_crowd crowd;
    testing_crowd_start(&crowd, 2, wait_once, all);
    await_count(all, &all->entered, 2);
    if (mtask_cond_notify_all(&all->cond) != MTASK_OK)
        return false;
    testing_crowd_join(&crowd);
    return testing_crowd_count(&crowd, MTASK_OK) == 2;
}

START_TEST(condition_is_usable_in_a_forked_child) {
    room all = {.phase = 0};
    int status = 0;
    pid_t pid;
    ck_assert(use_condition_in_child(&all));
    all.entered = 0;
    pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0)
        _exit(use_condition_in_child(&all) ? 0 : 1);
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_int_eq(status, 0);
}
END_TEST

/* The waiter frees all as soon as it has the mutex. */
static bool leave_room(void *object, int player, testing_random *random) {
    room *all = (room *)object;
    (void)random;
    ck_assert_status(mtask_mutex_lock(&all->mutex), MTASK_OK);
    if (player == 0) {
        all->state = 1;
        ck_assert_status(mtask_cond_notify(&all->cond, 1), MTASK_OK);
    } else {
        while (all->state == 0)
            ck_assert_status(mtask_cond_wait(&all->cond, &all->mutex, MTASK_FOREVER), MTASK_OK);
    }
    ck_assert_status(mtask_mutex_unlock(&all->mutex), MTASK_OK);
    return player == 1;
}

START_TEST(condition_may_be_freed_by_a_waiter_that_was_told) {
    testing_play(sizeof(room), NULL, leave_room);
}
END_TEST

/* The notifier holds no mutex: it may still be inside notify when the woken one frees all. */
static bool leave_room_early(void *object, int player, testing_random *random) {
    room *all = (room *)object;
    (void)random;
    if (player == 0) {
        await_count(all, &all->entered, 1);
        ck_assert_status(mtask_cond_notify_all(&all->cond), MTASK_OK);
        return false;
    }
    ck_assert_status(mtask_mutex_lock(&all->mutex), MTASK_OK);
    all->entered = 1;
    ck_assert_status(mtask_cond_wait(&all->cond, &all->mutex, MTASK_FOREVER), MTASK_OK);
    ck_assert_status(mtask_mutex_unlock(&all->mutex), MTASK_OK);
    return true;
}

START_TEST(condition_may_be_freed_by_the_last_waiter_while_notify_returns) {
    testing_play(sizeof(room), NULL, leave_room_early);
}
END_TEST

TESTING_MAIN("cond", condition_is_small_and_ready_when_zeroed, condition_init_refuses_unknown_flags,
             condition_wait_needs_the_lock, condition_wait_needs_the_rmutex_to_be_the_callers,
             condition_wait_refuses_negative_timeouts_and_keeps_the_lock,
             condition_notify_refuses_a_negative_number_and_may_wake_none,
             condition_notifies_three_then_five_then_all_exactly,
             condition_forgets_a_notify_that_found_nobody, condition_wakes_in_the_order_of_waiting,
             condition_wakes_the_longest_waiting_of_many,
             condition_keeps_the_order_when_some_give_up, condition_timeout_takes_its_time,
             condition_has_the_lock_again_when_the_time_is_up,
             condition_lets_go_of_all_depths_of_a_rmutex_and_takes_them_back,
             condition_takes_a_rmutex_back_at_all_depths_after_a_timeout,
             wait_for_goes_on_until_the_predicate_holds,
             wait_for_times_out_as_a_whole_however_often_it_is_notified,
             wait_for_is_content_if_the_predicate_holds_when_the_time_is_up,
             wait_for_looks_at_the_predicate_before_it_waits,
             condition_wait_is_not_ended_by_signals_and_uses_no_cpu,
             condition_loses_no_notify_between_two,
             condition_waiter_that_times_out_swallows_no_notify,
             condition_wakes_never_more_than_notified_and_loses_none,
             condition_leaves_alone_who_timed_out_while_all_are_notified,
             condition_is_usable_in_a_forked_child,
             condition_may_be_freed_by_a_waiter_that_was_told,
             condition_may_be_freed_by_the_last_waiter_while_notify_returns)
