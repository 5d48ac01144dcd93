/* test_mtask_mutex.c - the lock and the recursive lock */
#include "testing_threads.h"

#include <sys/wait.h>

/* ---- mutex ---- */

START_TEST(mutex_is_four_bytes_and_ready_when_zeroed) {
    static mtask_mutex mutex;
    ck_assert_uint_eq(sizeof mutex, 4);
    ck_assert(!mtask_mutex_is_locked(&mutex));
    ck_assert_status(mtask_mutex_lock(&mutex), MTASK_OK);
    ck_assert(mtask_mutex_is_locked(&mutex));
    ck_assert_status(mtask_mutex_unlock(&mutex), MTASK_OK);
    ck_assert(!mtask_mutex_is_locked(&mutex));
    ck_assert_uint_eq(mutex.word, 0);
}
END_TEST

START_TEST(mutex_init_makes_an_unlocked_one_and_refuses_unknown_flags) {
    mtask_mutex mutex;
    memset(&mutex, 0xff, sizeof mutex);
    ck_assert_status(mtask_mutex_init(&mutex, MTASK_PRIVATE), MTASK_OK);
    ck_assert(!mtask_mutex_is_locked(&mutex));
    ck_assert_status(mtask_mutex_lock_for(&mutex, MTASK_NOWAIT), MTASK_OK);
    ck_assert_status(mtask_mutex_unlock(&mutex), MTASK_OK);
    ck_assert_status(mtask_mutex_init(&mutex, 4), MTASK_INVALID);
    ck_assert_status(mtask_mutex_init(&mutex, 1 << 30), MTASK_INVALID);
    ck_assert_status(mtask_mutex_init(&mutex, -1), MTASK_INVALID);
}
END_TEST

static void try_mutex(testing_member *self) {
    self->status = mtask_mutex_lock_for((mtask_mutex *)self->arg, MTASK_NOWAIT);
}

START_TEST(mutex_try_fails_while_anybody_holds_it) {
    mtask_mutex mutex = {0};
    testing_crowd crowd;
    ck_assert_status(mtask_mutex_lock_for(&mutex, MTASK_NOWAIT), MTASK_OK);
    ck_assert_status(mtask_mutex_lock_for(&mutex, MTASK_NOWAIT), MTASK_TIMEOUT);
    testing_crowd_start(&crowd, 1, try_mutex, &mutex);
    testing_crowd_join(&crowd);
    ck_assert_status(crowd.members[0].status, MTASK_TIMEOUT);
    ck_assert_status(mtask_mutex_unlock(&mutex), MTASK_OK);
    testing_crowd_start(&crowd, 1, try_mutex, &mutex);
    testing_crowd_join(&crowd);
    ck_assert_status(crowd.members[0].status, MTASK_OK);
}
END_TEST

static void lock_and_unlock_mutex(testing_member *self) {
    mtask_mutex *mutex = (mtask_mutex *)self->arg;
    self->status = mtask_mutex_lock(mutex);
    ck_assert_status(mtask_mutex_unlock(mutex), MTASK_OK);
}

START_TEST(mutex_holds_up_five_until_it_is_unlocked) {
    mtask_mutex mutex = {0};
    testing_crowd crowd;
    ck_assert_status(mtask_mutex_lock(&mutex), MTASK_OK);
    testing_crowd_start(&crowd, 5, lock_and_unlock_mutex, &mutex);
    testing_crowd_await_asleep(&crowd, 5);
    ck_assert_int_eq(testing_crowd_finished(&crowd), 0);
    ck_assert_status(mtask_mutex_unlock(&mutex), MTASK_OK);
    testing_crowd_join(&crowd);
    ck_assert_int_eq(testing_crowd_count(&crowd, MTASK_OK), 5);
    ck_assert(!mtask_mutex_is_locked(&mutex));
}
END_TEST

static void lock_mutex_twice(testing_member *self) {
    mtask_mutex *mutex = (mtask_mutex *)self->arg;
    ck_assert_status(mtask_mutex_lock(mutex), MTASK_OK);
    __atomic_store_n(&self->number, 1, __ATOMIC_SEQ_CST);
    self->status = mtask_mutex_lock(mutex);
    __atomic_store_n(&self->number, 2, __ATOMIC_SEQ_CST);
}

START_TEST(mutex_locked_twice_by_one_waits_until_another_unlocks) {
    mtask_mutex mutex = {0};
    testing_crowd crowd;
    testing_crowd_start(&crowd, 1, lock_mutex_twice, &mutex);
    testing_await_asleep(&crowd.members[0]);
    ck_assert_int_eq(__atomic_load_n(&crowd.members[0].number, __ATOMIC_SEQ_CST), 1);
    ck_assert_status(mtask_mutex_unlock(&mutex), MTASK_OK);
    testing_crowd_join(&crowd);
    ck_assert_int_eq(crowd.members[0].number, 2);
    ck_assert(mtask_mutex_is_locked(&mutex));
    ck_assert_status(mtask_mutex_unlock(&mutex), MTASK_OK);
}
END_TEST

static void unlock_mutex(testing_member *self) {
    self->status = mtask_mutex_unlock((mtask_mutex *)self->arg);
}

START_TEST(mutex_may_be_unlocked_by_another_thread) {
    mtask_mutex mutex = {0};
    testing_crowd crowd;
    ck_assert_status(mtask_mutex_lock(&mutex), MTASK_OK);
    testing_crowd_start(&crowd, 1, unlock_mutex, &mutex);
    testing_crowd_join(&crowd);
    ck_assert_status(crowd.members[0].status, MTASK_OK);
    ck_assert_status(mtask_mutex_lock(&mutex), MTASK_OK);
    ck_assert_status(mtask_mutex_unlock(&mutex), MTASK_OK);
}
END_TEST

static void lock_mutex_for_20_ms(testing_member *self) {
    int64_t start = mtask_now();
    self->status = mtask_mutex_lock_for((mtask_mutex *)self->arg, MTASK_MS(20));
    self->took = mtask_now() - start;
}

START_TEST(mutex_timeout_takes_its_time_and_leaves_the_mutex_in_order) {
    mtask_mutex mutex = {0};
    testing_crowd crowd;
    ck_assert_status(mtask_mutex_lock(&mutex), MTASK_OK);
    testing_crowd_start(&crowd, 3, lock_mutex_for_20_ms, &mutex);
    testing_crowd_join(&crowd);
    for (int i = 0; i < 3; i++) {
        ck_assert_status(crowd.members[i].status, MTASK_TIMEOUT);
        ck_assert_int_ge(crowd.members[i].took, MTASK_MS(20));
    }
    ck_assert_status(mtask_mutex_unlock(&mutex), MTASK_OK);
    ck_assert(!mtask_mutex_is_locked(&mutex));
    ck_assert_status(mtask_mutex_unlock(&mutex), MTASK_INVALID);
    ck_assert_status(mtask_mutex_lock_for(&mutex, MTASK_NOWAIT), MTASK_OK);
    ck_assert_status(mtask_mutex_unlock(&mutex), MTASK_OK);
}
END_TEST

START_TEST(mutex_refuses_a_negative_timeout_and_locks_nothing) {
    mtask_mutex mutex = {0};
    ck_assert_status(mtask_mutex_lock_for(&mutex, -1), MTASK_INVALID);
    ck_assert_status(mtask_mutex_lock_for(&mutex, INT64_MIN), MTASK_INVALID);
    ck_assert(!mtask_mutex_is_locked(&mutex));
    ck_assert_status(mtask_mutex_lock(&mutex), MTASK_OK);
    ck_assert_status(mtask_mutex_lock_for(&mutex, -1), MTASK_INVALID);
    ck_assert_status(mtask_mutex_unlock(&mutex), MTASK_OK);
}
END_TEST

static void lock_mutex_for_ages(testing_member *self) {
    int64_t ages[] = {MTASK_FOREVER, MTASK_FOREVER - 1, MTASK_SEC(1000000000)};
    mtask_mutex *mutex = (mtask_mutex *)self->arg;
    self->status = mtask_mutex_lock_for(mutex, ages[self->index]);
    ck_assert_status(mtask_mutex_unlock(mutex), MTASK_OK);
}

START_TEST(mutex_timeouts_may_be_as_long_as_the_type_allows) {
    mtask_mutex mutex = {0};
    testing_crowd crowd;
    ck_assert_status(mtask_mutex_lock(&mutex), MTASK_OK);
    testing_crowd_start(&crowd, 3, lock_mutex_for_ages, &mutex);
    testing_crowd_await_asleep(&crowd, 3);
    ck_assert_status(mtask_mutex_unlock(&mutex), MTASK_OK);
    testing_crowd_join(&crowd);
    ck_assert_int_eq(testing_crowd_count(&crowd, MTASK_OK), 3);
}
END_TEST

/* Without the detector MTASK_CHECKED has no effect; with it, see test_mtask_debug.c. */
START_TEST(mutex_that_is_to_be_checked_is_a_mutex) {
    mtask_mutex mutex;
    ck_assert_status(mtask_mutex_init(&mutex, MTASK_CHECKED), MTASK_OK);
    for (int i = 0; i < 2; i++) {
        ck_assert(!mtask_mutex_is_locked(&mutex));
        ck_assert_status(mtask_mutex_unlock(&mutex), MTASK_INVALID);
        ck_assert_status(mtask_mutex_lock(&mutex), MTASK_OK);
        ck_assert_status(mtask_mutex_lock_for(&mutex, MTASK_NOWAIT), MTASK_TIMEOUT);
        ck_assert(mtask_mutex_is_locked(&mutex));
        ck_assert_status(mtask_mutex_unlock(&mutex), MTASK_OK);
    }
}
END_TEST

START_TEST(mutex_that_is_not_locked_cannot_be_unlocked) {
    mtask_mutex mutex = {0};
    ck_assert_status(mtask_mutex_unlock(&mutex), MTASK_INVALID);
    ck_assert_status(mtask_mutex_lock(&mutex), MTASK_OK);
    ck_assert_status(mtask_mutex_unlock(&mutex), MTASK_OK);
    ck_assert_status(mtask_mutex_unlock(&mutex), MTASK_INVALID);
    ck_assert_uint_eq(mutex.word, 0);
}
END_TEST

START_TEST(mutex_wait_goes_on_after_signals) {
    mtask_mutex mutex = {0};
    testing_crowd crowd;
    testing_catch_signals();
    ck_assert_status(mtask_mutex_lock(&mutex), MTASK_OK);
    testing_crowd_start(&crowd, 1, lock_and_unlock_mutex, &mutex);
    testing_interrupt(&crowd.members[0]);
    ck_assert_int_eq(testing_crowd_finished(&crowd), 0);
    ck_assert_status(mtask_mutex_unlock(&mutex), MTASK_OK);
    testing_crowd_join(&crowd);
    ck_assert_status(crowd.members[0].status, MTASK_OK);
}
END_TEST

START_TEST(mutex_wait_uses_no_cpu) {
    mtask_mutex mutex = {0};
    testing_crowd crowd;
    ck_assert_status(mtask_mutex_lock(&mutex), MTASK_OK);
    testing_crowd_start(&crowd, 1, lock_and_unlock_mutex, &mutex);
    testing_check_idle(&crowd.members[0]);
    ck_assert_status(mtask_mutex_unlock(&mutex), MTASK_OK);
    testing_crowd_join(&crowd);
}
END_TEST

/* Runs fn(arg) in a forked child: true if it returned true there. */
static bool in_child(bool (*fn)(void *arg), void *arg) {
    int status = 0;
    pid_t pid = fork();
    testing_check(pid >= 0);
    if (pid == 0)
        _exit(fn(arg) ? 0 : 1);
    testing_check(waitpid(pid, &status, 0) == pid);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/* The child holds what its forking thread held, and can lock, wait and unlock. */
static bool use_mutexes_of_parent(void *arg) {
    mtask_mutex *mutexes = (mtask_mutex *)arg;
    testing_crowd crowd;
    if (mtask_mutex_lock_for(&mutexes[0], MTASK_MS(1)) != MTASK_TIMEOUT)
        return false;
    testing_crowd_start(&crowd, TESTING_TSAN ? 0 : 2, /* TSan allows no threads in this child */
                        lock_and_unlock_mutex, &mutexes[0]);
    testing_crowd_await_asleep(&crowd, crowd.count);
    if (mtask_mutex_unlock(&mutexes[0]) != MTASK_OK)
        return false;
    testing_crowd_join(&crowd);
    return mtask_mutex_init(&mutexes[1], MTASK_PRIVATE) == MTASK_OK && /* its holder is not here */
           mtask_mutex_lock_for(&mutexes[1], MTASK_NOWAIT) == MTASK_OK;
}

START_TEST(mutex_is_usable_in_a_forked_child) {
    static mtask_mutex mutexes[2];
    testing_crowd crowd;
    ck_assert_status(mtask_mutex_lock(&mutexes[0]), MTASK_OK);
    testing_crowd_start(&crowd, 1, try_mutex, &mutexes[1]);
    testing_crowd_join(&crowd);
    ck_assert_status(crowd.members[0].status, MTASK_OK);
    testing_crowd_start(&crowd, 2, lock_and_unlock_mutex, &mutexes[0]);
    testing_crowd_await_asleep(&crowd, 2); /* the parent's waiters are none of the child's */
    ck_assert(in_child(use_mutexes_of_parent, mutexes));
    ck_assert(mtask_mutex_is_locked(&mutexes[0]));
    ck_assert_status(mtask_mutex_unlock(&mutexes[0]), MTASK_OK);
    testing_crowd_join(&crowd);
}
END_TEST

/* What the stress tests share: a plain counter that only the lock protects. */
typedef struct fight {
    mtask_mutex mutex;
    mtask_rmutex rmutex;
    long inside; /* how many are in the section; never more than 1 */
    long passed;
    long rounds;
    int64_t start;
    uint64_t seed;
} fight;

static void pass_section(fight *all) {
    testing_check(all->inside == 0);
    all->inside++;
    all->passed++;
    testing_check(all->inside == 1);
    all->inside--;
}

/* A time-out that is mostly too short, often just about right, sometimes for ever. */
static int64_t random_timeout(testing_random *random) {
    uint64_t kind = testing_below(random, 8);
    if (kind == 0)
        return MTASK_NOWAIT;
    if (kind == 1)
        return MTASK_FOREVER;
    return (int64_t)testing_below(random, kind < 5 ? 5000 : 200000);
}

static void fight_for_mutex(testing_member *self) {
    fight *all = (fight *)self->arg;
    testing_random random = testing_random_make(all->seed, (unsigned)self->index);
    for (long i = 0; i < all->rounds && testing_has_time(all->start); i++) {
        mtask_status status = mtask_mutex_lock_for(&all->mutex, random_timeout(&random));
        if (status == MTASK_TIMEOUT)
            continue;
        ck_assert_status(status, MTASK_OK);
        pass_section(all);
        self->number++;
        if (testing_below(&random, 16) == 0)
            sched_yield(); /* while it is held: the others have to sleep */
        ck_assert_status(mtask_mutex_unlock(&all->mutex), MTASK_OK);
    }
}

START_TEST(mutex_excludes_and_loses_nobody_among_random_timeouts) {
    fight all = {.rounds = testing_scale(40000), .seed = testing_seed()};
    testing_crowd crowd;
    long passed = 0;
    all.start = mtask_now();
    testing_crowd_start(&crowd, 6, fight_for_mutex, &all);
    testing_crowd_join(&crowd);
    for (int i = 0; i < 6; i++)
        passed += crowd.members[i].number;
    ck_assert_int_eq(all.passed, passed);
    ck_assert(!mtask_mutex_is_locked(&all.mutex));
    ck_assert_status(mtask_mutex_lock_for(&all.mutex, MTASK_NOWAIT), MTASK_OK);
}
END_TEST

/* Round by round: the holder unlocks when one waiter is about to give up. If that one takes the
   wake-up along, the other, who waits for ever, hangs. */
static void wait_or_give_up(testing_member *self) {
    fight *all = (fight *)self->arg;
    testing_random random = testing_random_make(all->seed, (unsigned)self->index);
    for (long i = 0; i < all->rounds && testing_has_time(all->start); i++) {
        int64_t timeout =
            self->index == 0 ? MTASK_US(50 + (int64_t)testing_below(&random, 50)) : MTASK_FOREVER;
        if (mtask_mutex_lock_for(&all->mutex, timeout) != MTASK_OK)
            continue;
        mtask_sleep(self->index == 2 ? MTASK_US(70) : 0);
        ck_assert_status(mtask_mutex_unlock(&all->mutex), MTASK_OK);
    }
}

START_TEST(mutex_waiter_that_gives_up_takes_no_wake_up_along) {
    fight all = {.rounds = testing_scale(4000), .seed = testing_seed()};
    testing_crowd crowd;
    all.start = mtask_now();
    testing_crowd_start(&crowd, 3, wait_or_give_up, &all);
    testing_crowd_join(&crowd);
    ck_assert(!mtask_mutex_is_locked(&all.mutex));
}
END_TEST

typedef struct boxed_mutex {
    mtask_mutex mutex;
    mtask_rmutex rmutex;
    int gone;
} boxed_mutex;

static bool leave_mutex(void *object, int player, testing_random *random) {
    boxed_mutex *box = (boxed_mutex *)object;
    bool last;
    (void)player;
    ck_assert_status(mtask_mutex_lock(&box->mutex), MTASK_OK);
    last = ++box->gone == 2;
    testing_dawdle(random, 12000); /* the other goes to sleep */
    ck_assert_status(mtask_mutex_unlock(&box->mutex), MTASK_OK);
    return last;
}

START_TEST(mutex_may_be_freed_by_the_last_who_unlocks_it) {
    testing_play(sizeof(boxed_mutex), NULL, leave_mutex);
}
END_TEST

/* ---- rmutex ---- */

START_TEST(rmutex_counts_how_often_it_is_held) {
    static mtask_rmutex rmutex;
    ck_assert_uint_eq(mtask_rmutex_count(&rmutex), 0);
    ck_assert(!mtask_rmutex_is_locked(&rmutex));
    for (uint32_t depth = 1; depth <= 5; depth++) {
        ck_assert_status(mtask_rmutex_lock(&rmutex), MTASK_OK);
        ck_assert_uint_eq(mtask_rmutex_count(&rmutex), depth);
    }
    for (uint32_t depth = 5; depth-- > 0;) {
        ck_assert(mtask_rmutex_is_locked(&rmutex));
        ck_assert_status(mtask_rmutex_unlock(&rmutex), MTASK_OK);
        ck_assert_uint_eq(mtask_rmutex_count(&rmutex), depth);
    }
    ck_assert(!mtask_rmutex_is_locked(&rmutex));
}
END_TEST

START_TEST(rmutex_init_makes_an_unlocked_one_and_refuses_unknown_flags) {
    mtask_rmutex rmutex;
    memset(&rmutex, 0xff, sizeof rmutex);
    ck_assert_status(mtask_rmutex_init(&rmutex, MTASK_PRIVATE), MTASK_OK);
    ck_assert(!mtask_rmutex_is_locked(&rmutex));
    ck_assert_uint_eq(mtask_rmutex_count(&rmutex), 0);
    ck_assert_status(mtask_rmutex_lock_for(&rmutex, MTASK_NOWAIT), MTASK_OK);
    ck_assert_status(mtask_rmutex_unlock(&rmutex), MTASK_OK);
    ck_assert_status(mtask_rmutex_init(&rmutex, 4), MTASK_INVALID);
    ck_assert_status(mtask_rmutex_init(&rmutex, -1), MTASK_INVALID);
}
END_TEST

START_TEST(rmutex_that_is_not_held_cannot_be_unlocked) {
    mtask_rmutex rmutex = {0};
    ck_assert_status(mtask_rmutex_unlock(&rmutex), MTASK_NOT_OWNER);
    ck_assert_status(mtask_rmutex_lock(&rmutex), MTASK_OK);
    ck_assert_status(mtask_rmutex_lock(&rmutex), MTASK_OK);
    ck_assert_status(mtask_rmutex_unlock(&rmutex), MTASK_OK);
    ck_assert_status(mtask_rmutex_lock(&rmutex), MTASK_OK);
    ck_assert_status(mtask_rmutex_unlock(&rmutex), MTASK_OK);
    ck_assert_status(mtask_rmutex_unlock(&rmutex), MTASK_OK);
    ck_assert_status(mtask_rmutex_unlock(&rmutex), MTASK_NOT_OWNER);
    ck_assert(!mtask_rmutex_is_locked(&rmutex));
}
END_TEST

/* What a thread that does not hold it sees. */
static void be_a_stranger(testing_member *self) {
    mtask_rmutex *rmutex = (mtask_rmutex *)self->arg;
    ck_assert(mtask_rmutex_is_locked(rmutex));
    ck_assert_uint_eq(mtask_rmutex_count(rmutex), 0);
    ck_assert_status(mtask_rmutex_unlock(rmutex), MTASK_NOT_OWNER);
    ck_assert_status(mtask_rmutex_lock_for(rmutex, MTASK_NOWAIT), MTASK_TIMEOUT);
    self->status = mtask_rmutex_lock_for(rmutex, -1);
}

START_TEST(rmutex_belongs_to_the_thread_that_locked_it) {
    mtask_rmutex rmutex = {0};
    testing_crowd crowd;
    ck_assert_status(mtask_rmutex_lock(&rmutex), MTASK_OK);
    ck_assert_status(mtask_rmutex_lock(&rmutex), MTASK_OK);
    testing_crowd_start(&crowd, 1, be_a_stranger, &rmutex);
    testing_crowd_join(&crowd);
    ck_assert_status(crowd.members[0].status, MTASK_INVALID);
    ck_assert_uint_eq(mtask_rmutex_count(&rmutex), 2);
    ck_assert_status(mtask_rmutex_unlock(&rmutex), MTASK_OK);
    ck_assert_status(mtask_rmutex_unlock(&rmutex), MTASK_OK);
}
END_TEST

static void lock_and_unlock_rmutex(testing_member *self) {
    mtask_rmutex *rmutex = (mtask_rmutex *)self->arg;
    self->status = mtask_rmutex_lock(rmutex);
    self->number = (long)mtask_rmutex_count(rmutex);
    ck_assert_status(mtask_rmutex_unlock(rmutex), MTASK_OK);
}

START_TEST(rmutex_holds_up_five_until_it_is_unlocked_as_often_as_locked) {
    mtask_rmutex rmutex = {0};
    testing_crowd crowd;
    for (int i = 0; i < 3; i++)
        ck_assert_status(mtask_rmutex_lock(&rmutex), MTASK_OK);
    testing_crowd_start(&crowd, 5, lock_and_unlock_rmutex, &rmutex);
    for (int i = 0; i < 3; i++) {
        testing_crowd_await_asleep(&crowd, 5);
        ck_assert_int_eq(testing_crowd_finished(&crowd), 0);
        ck_assert_status(mtask_rmutex_unlock(&rmutex), MTASK_OK);
    }
    testing_crowd_join(&crowd);
    for (int i = 0; i < 5; i++) {
        ck_assert_status(crowd.members[i].status, MTASK_OK);
        ck_assert_int_eq(crowd.members[i].number, 1);
    }
    ck_assert(!mtask_rmutex_is_locked(&rmutex));
}
END_TEST

static void hold_rmutex_and_end(testing_member *self) {
    self->status = mtask_rmutex_lock((mtask_rmutex *)self->arg);
}

START_TEST(rmutex_of_an_ended_thread_belongs_to_no_other) {
    mtask_rmutex rmutex = {0};
    testing_crowd crowd;
    testing_crowd_start(&crowd, 1, hold_rmutex_and_end, &rmutex);
    testing_crowd_join(&crowd);
    ck_assert_status(crowd.members[0].status, MTASK_OK);
    testing_crowd_start(&crowd, 8, be_a_stranger, &rmutex); /* one may get the ended one's stack */
    testing_crowd_join(&crowd);
    ck_assert_status(mtask_rmutex_unlock(&rmutex), MTASK_NOT_OWNER);
}
END_TEST

static void lock_rmutex_for_20_ms(testing_member *self) {
    int64_t start = mtask_now();
    self->status = mtask_rmutex_lock_for((mtask_rmutex *)self->arg, MTASK_MS(20));
    self->took = mtask_now() - start;
}

START_TEST(rmutex_timeout_takes_its_time_and_leaves_the_rmutex_in_order) {
    mtask_rmutex rmutex = {0};
    testing_crowd crowd;
    ck_assert_status(mtask_rmutex_lock(&rmutex), MTASK_OK);
    testing_crowd_start(&crowd, 2, lock_rmutex_for_20_ms, &rmutex);
    testing_crowd_join(&crowd);
    for (int i = 0; i < 2; i++) {
        ck_assert_status(crowd.members[i].status, MTASK_TIMEOUT);
        ck_assert_int_ge(crowd.members[i].took, MTASK_MS(20));
    }
    ck_assert_uint_eq(mtask_rmutex_count(&rmutex), 1);
    ck_assert_status(mtask_rmutex_unlock(&rmutex), MTASK_OK);
    ck_assert(!mtask_rmutex_is_locked(&rmutex));
    testing_crowd_start(&crowd, 1, lock_and_unlock_rmutex, &rmutex);
    testing_crowd_join(&crowd);
}
END_TEST

START_TEST(rmutex_timeouts_mean_nothing_to_its_owner_except_negative_ones) {
    mtask_rmutex rmutex = {0};
    ck_assert_status(mtask_rmutex_lock_for(&rmutex, -1), MTASK_INVALID);
    ck_assert(!mtask_rmutex_is_locked(&rmutex));
    ck_assert_status(mtask_rmutex_lock_for(&rmutex, MTASK_NOWAIT), MTASK_OK);
    ck_assert_status(mtask_rmutex_lock_for(&rmutex, MTASK_NOWAIT), MTASK_OK);
    ck_assert_status(mtask_rmutex_lock_for(&rmutex, MTASK_FOREVER), MTASK_OK);
    ck_assert_status(mtask_rmutex_lock_for(&rmutex, INT64_MIN), MTASK_INVALID);
    ck_assert_uint_eq(mtask_rmutex_count(&rmutex), 3);
}
END_TEST

START_TEST(rmutex_count_does_not_overflow) {
    mtask_rmutex rmutex = {0};
    ck_assert_status(mtask_rmutex_lock(&rmutex), MTASK_OK);
    rmutex.count = UINT32_MAX - 1; /* as if locked so often */
    ck_assert_status(mtask_rmutex_lock(&rmutex), MTASK_OK);
    ck_assert_uint_eq(mtask_rmutex_count(&rmutex), UINT32_MAX);
    ck_assert_status(mtask_rmutex_lock(&rmutex), MTASK_OVERFLOW);
    ck_assert_status(mtask_rmutex_lock_for(&rmutex, MTASK_NOWAIT), MTASK_OVERFLOW);
    ck_assert_uint_eq(mtask_rmutex_count(&rmutex), UINT32_MAX);
    ck_assert_status(mtask_rmutex_unlock(&rmutex), MTASK_OK);
    ck_assert_uint_eq(mtask_rmutex_count(&rmutex), UINT32_MAX - 1);
    rmutex.count = 1;
    ck_assert_status(mtask_rmutex_unlock(&rmutex), MTASK_OK);
    ck_assert(!mtask_rmutex_is_locked(&rmutex));
}
END_TEST

START_TEST(rmutex_wait_uses_no_cpu) {
    mtask_rmutex rmutex = {0};
    testing_crowd crowd;
    ck_assert_status(mtask_rmutex_lock(&rmutex), MTASK_OK);
    testing_crowd_start(&crowd, 1, lock_and_unlock_rmutex, &rmutex);
    testing_check_idle(&crowd.members[0]);
    ck_assert_status(mtask_rmutex_unlock(&rmutex), MTASK_OK);
    testing_crowd_join(&crowd);
}
END_TEST

/* What the forking thread held, the child's thread holds. */
static bool use_rmutexes_of_parent(void *arg) {
    mtask_rmutex *rmutexes = (mtask_rmutex *)arg;
    return mtask_rmutex_count(&rmutexes[0]) == 1 && mtask_rmutex_lock(&rmutexes[0]) == MTASK_OK &&
           mtask_rmutex_unlock(&rmutexes[0]) == MTASK_OK &&
           mtask_rmutex_unlock(&rmutexes[0]) == MTASK_OK &&
           mtask_rmutex_unlock(&rmutexes[0]) == MTASK_NOT_OWNER &&
           mtask_rmutex_count(&rmutexes[1]) == 0 &&
           mtask_rmutex_lock_for(&rmutexes[1], MTASK_NOWAIT) == MTASK_TIMEOUT &&
           mtask_rmutex_init(&rmutexes[1], MTASK_PRIVATE) == MTASK_OK && /* its holder is gone */
           mtask_rmutex_lock_for(&rmutexes[1], MTASK_NOWAIT) == MTASK_OK;
}

START_TEST(rmutex_is_usable_in_a_forked_child) {
    static mtask_rmutex rmutexes[2];
    testing_crowd crowd;
    ck_assert_status(mtask_rmutex_lock(&rmutexes[0]), MTASK_OK);
    testing_crowd_start(&crowd, 1, hold_rmutex_and_end, &rmutexes[1]);
    testing_crowd_join(&crowd);
    ck_assert(in_child(use_rmutexes_of_parent, rmutexes));
    ck_assert_uint_eq(mtask_rmutex_count(&rmutexes[0]), 1);
    ck_assert_status(mtask_rmutex_unlock(&rmutexes[0]), MTASK_OK);
}
END_TEST

static void fight_for_rmutex(testing_member *self) {
    fight *all = (fight *)self->arg;
    testing_random random = testing_random_make(all->seed, (unsigned)self->index);
    for (long i = 0; i < all->rounds && testing_has_time(all->start); i++) {
        uint64_t depth = 1 + testing_below(&random, 3);
        if (mtask_rmutex_lock_for(&all->rmutex, random_timeout(&random)) != MTASK_OK)
            continue;
        for (uint64_t d = 1; d < depth; d++)
            ck_assert_status(mtask_rmutex_lock_for(&all->rmutex, MTASK_NOWAIT), MTASK_OK);
        pass_section(all);
        self->number++;
        if (testing_below(&random, 16) == 0)
            sched_yield();
        testing_check(mtask_rmutex_count(&all->rmutex) == depth);
        for (uint64_t d = 0; d < depth; d++)
            ck_assert_status(mtask_rmutex_unlock(&all->rmutex), MTASK_OK);
    }
}

START_TEST(rmutex_excludes_and_loses_nobody_among_random_timeouts) {
    fight all = {.rounds = testing_scale(30000), .seed = testing_seed()};
    testing_crowd crowd;
    long passed = 0;
    all.start = mtask_now();
    testing_crowd_start(&crowd, 5, fight_for_rmutex, &all);
    testing_crowd_join(&crowd);
    for (int i = 0; i < 5; i++)
        passed += crowd.members[i].number;
    ck_assert_int_eq(all.passed, passed);
    ck_assert(!mtask_rmutex_is_locked(&all.rmutex));
}
END_TEST

static bool leave_rmutex(void *object, int player, testing_random *random) {
    boxed_mutex *box = (boxed_mutex *)object;
    bool last;
    (void)player;
    ck_assert_status(mtask_rmutex_lock(&box->rmutex), MTASK_OK);
    ck_assert_status(mtask_rmutex_lock(&box->rmutex), MTASK_OK);
    last = ++box->gone == 2;
    testing_dawdle(random, 12000); /* the other goes to sleep */
    ck_assert_status(mtask_rmutex_unlock(&box->rmutex), MTASK_OK);
    ck_assert_status(mtask_rmutex_unlock(&box->rmutex), MTASK_OK);
    return last;
}

START_TEST(rmutex_may_be_freed_by_the_last_who_unlocks_it) {
    testing_play(sizeof(boxed_mutex), NULL, leave_rmutex);
}
END_TEST

TESTING_MAIN(
    "mutex", mutex_is_four_bytes_and_ready_when_zeroed,
    mutex_init_makes_an_unlocked_one_and_refuses_unknown_flags,
    mutex_try_fails_while_anybody_holds_it, mutex_holds_up_five_until_it_is_unlocked,
    mutex_locked_twice_by_one_waits_until_another_unlocks, mutex_may_be_unlocked_by_another_thread,
    mutex_timeout_takes_its_time_and_leaves_the_mutex_in_order,
    mutex_refuses_a_negative_timeout_and_locks_nothing,
    mutex_timeouts_may_be_as_long_as_the_type_allows, mutex_that_is_to_be_checked_is_a_mutex,
    mutex_that_is_not_locked_cannot_be_unlocked, mutex_wait_goes_on_after_signals,
    mutex_wait_uses_no_cpu, mutex_is_usable_in_a_forked_child,
    mutex_excludes_and_loses_nobody_among_random_timeouts,
    mutex_waiter_that_gives_up_takes_no_wake_up_along,
    mutex_may_be_freed_by_the_last_who_unlocks_it, rmutex_counts_how_often_it_is_held,
    rmutex_init_makes_an_unlocked_one_and_refuses_unknown_flags,
    rmutex_that_is_not_held_cannot_be_unlocked, rmutex_belongs_to_the_thread_that_locked_it,
    rmutex_holds_up_five_until_it_is_unlocked_as_often_as_locked,
    rmutex_of_an_ended_thread_belongs_to_no_other,
    rmutex_timeout_takes_its_time_and_leaves_the_rmutex_in_order,
    rmutex_timeouts_mean_nothing_to_its_owner_except_negative_ones, rmutex_count_does_not_overflow,
    rmutex_wait_uses_no_cpu, rmutex_is_usable_in_a_forked_child,
    rmutex_excludes_and_loses_nobody_among_random_timeouts,
    rmutex_may_be_freed_by_the_last_who_unlocks_it)
