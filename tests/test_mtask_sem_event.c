/* test_mtask_sem_event.c - the semaphore, bounded or not, and the event */
#include "testing_threads.h"

#include <sys/wait.h>

/* ---- semaphore ---- */

START_TEST(semaphore_is_eight_bytes_and_zero_when_zeroed) {
    static mtask_sem sem;
    ck_assert_uint_eq(sizeof sem, 8);
    ck_assert_uint_eq(mtask_sem_value(&sem), 0);
    ck_assert_status(mtask_sem_acquire(&sem, MTASK_NOWAIT), MTASK_TIMEOUT);
    ck_assert_status(mtask_sem_release(&sem, 1), MTASK_OK);
    ck_assert_uint_eq(mtask_sem_value(&sem), 1);
    ck_assert_status(mtask_sem_acquire(&sem, MTASK_FOREVER), MTASK_OK);
    ck_assert_uint_eq(mtask_sem_value(&sem), 0);
}
END_TEST

START_TEST(semaphore_init_refuses_what_it_cannot_be) {
    mtask_sem sem;
    int64_t most = MTASK_SEM_MAX;
    ck_assert_status(mtask_sem_init(&sem, -1, 0, 0), MTASK_INVALID);
    ck_assert_status(mtask_sem_init(&sem, INT64_MIN, 0, 0), MTASK_INVALID);
    ck_assert_status(mtask_sem_init(&sem, most + 1, 0, 0), MTASK_INVALID);
    ck_assert_status(mtask_sem_init(&sem, INT64_C(1) << 32, 0, 0), MTASK_INVALID);
    ck_assert_status(mtask_sem_init(&sem, 3, 2, 0), MTASK_INVALID);
    ck_assert_status(mtask_sem_init(&sem, 0, -1, 0), MTASK_INVALID);
    ck_assert_status(mtask_sem_init(&sem, 0, most + 1, 0), MTASK_INVALID);
    ck_assert_status(mtask_sem_init(&sem, 0, (INT64_C(1) << 32) + 1, 0), MTASK_INVALID);
    ck_assert_status(mtask_sem_init(&sem, 1, 1, 2), MTASK_INVALID);
    ck_assert_status(mtask_sem_init(&sem, 1, 1, -1), MTASK_INVALID);
    ck_assert_status(mtask_sem_init(&sem, most, most, MTASK_PRIVATE), MTASK_OK);
    ck_assert_uint_eq(mtask_sem_value(&sem), MTASK_SEM_MAX);
    ck_assert_status(mtask_sem_init(&sem, 2, 2, MTASK_PRIVATE), MTASK_OK);
    ck_assert_uint_eq(mtask_sem_value(&sem), 2);
}
END_TEST

START_TEST(semaphore_gives_as_many_as_it_has) {
    mtask_sem sem;
    ck_assert_status(mtask_sem_init(&sem, 2, 0, 0), MTASK_OK);
    ck_assert_status(mtask_sem_acquire(&sem, MTASK_NOWAIT), MTASK_OK);
    ck_assert_status(mtask_sem_acquire(&sem, MTASK_NOWAIT), MTASK_OK);
    ck_assert_status(mtask_sem_acquire(&sem, MTASK_NOWAIT), MTASK_TIMEOUT);
    ck_assert_status(mtask_sem_release(&sem, 1), MTASK_OK);
    ck_assert_status(mtask_sem_acquire(&sem, MTASK_NOWAIT), MTASK_OK);
    ck_assert_status(mtask_sem_release(&sem, 3), MTASK_OK); /* more than ever there were */
    ck_assert_uint_eq(mtask_sem_value(&sem), 3);
}
END_TEST

START_TEST(semaphore_refuses_negative_timeouts_and_takes_nothing) {
    mtask_sem sem = {0, 0};
    ck_assert_status(mtask_sem_acquire(&sem, -1), MTASK_INVALID);
    ck_assert_status(mtask_sem_release(&sem, 2), MTASK_OK);
    ck_assert_status(mtask_sem_acquire(&sem, -1), MTASK_INVALID);
    ck_assert_status(mtask_sem_acquire(&sem, INT64_MIN), MTASK_INVALID);
    ck_assert_uint_eq(mtask_sem_value(&sem), 2);
}
END_TEST

START_TEST(semaphore_refuses_to_release_fewer_than_one) {
    mtask_sem sem = {0, 0};
    ck_assert_status(mtask_sem_release(&sem, 0), MTASK_INVALID);
    ck_assert_status(mtask_sem_release(&sem, -1), MTASK_INVALID);
    ck_assert_status(mtask_sem_release(&sem, INT64_MIN), MTASK_INVALID);
    ck_assert_uint_eq(mtask_sem_value(&sem), 0);
}
END_TEST

START_TEST(semaphore_does_not_overflow) {
    mtask_sem sem;
    ck_assert_status(mtask_sem_init(&sem, MTASK_SEM_MAX - 1, 0, 0), MTASK_OK);
    ck_assert_status(mtask_sem_release(&sem, 2), MTASK_OVERFLOW);
    ck_assert_status(mtask_sem_release(&sem, INT64_C(1) << 30), MTASK_OVERFLOW);
    ck_assert_status(mtask_sem_release(&sem, (INT64_C(1) << 32) + 1), MTASK_OVERFLOW);
    ck_assert_status(mtask_sem_release(&sem, INT64_MAX), MTASK_OVERFLOW);
    ck_assert_uint_eq(mtask_sem_value(&sem), MTASK_SEM_MAX - 1);
    ck_assert_status(mtask_sem_release(&sem, 1), MTASK_OK);
    ck_assert_status(mtask_sem_release(&sem, 1), MTASK_OVERFLOW);
    ck_assert_uint_eq(mtask_sem_value(&sem), MTASK_SEM_MAX);
    ck_assert_status(mtask_sem_acquire(&sem, MTASK_NOWAIT), MTASK_OK);
    ck_assert_uint_eq(mtask_sem_value(&sem), MTASK_SEM_MAX - 1);
}
END_TEST

START_TEST(bounded_semaphore_refuses_more_than_its_limit) {
    mtask_sem sem;
    ck_assert_status(mtask_sem_init(&sem, 2, 2, 0), MTASK_OK);
    ck_assert_status(mtask_sem_release(&sem, 1), MTASK_OVERFLOW);
    ck_assert_status(mtask_sem_acquire(&sem, MTASK_NOWAIT), MTASK_OK);
    ck_assert_status(mtask_sem_release(&sem, 2), MTASK_OVERFLOW); /* and not one of the two */
    ck_assert_uint_eq(mtask_sem_value(&sem), 1);
    ck_assert_status(mtask_sem_release(&sem, 1), MTASK_OK);
    ck_assert_status(mtask_sem_release(&sem, 1), MTASK_OVERFLOW);
    ck_assert_status(mtask_sem_acquire(&sem, MTASK_NOWAIT), MTASK_OK);
    ck_assert_status(mtask_sem_acquire(&sem, MTASK_NOWAIT), MTASK_OK);
    ck_assert_status(mtask_sem_acquire(&sem, MTASK_NOWAIT), MTASK_TIMEOUT);
    ck_assert_status(mtask_sem_release(&sem, 2), MTASK_OK);
    ck_assert_uint_eq(mtask_sem_value(&sem), 2);
}
END_TEST

static void try_semaphore_twice(testing_member *self) {
    for (int i = 0; i < 2; i++)
        self->number += mtask_sem_acquire((mtask_sem *)self->arg, MTASK_NOWAIT) == MTASK_OK;
}

START_TEST(semaphore_tries_of_five_threads_get_just_what_is_there) {
    mtask_sem sem;
    testing_crowd crowd;
    long got = 0;
    ck_assert_status(mtask_sem_init(&sem, 3, 0, 0), MTASK_OK);
    testing_crowd_start(&crowd, 5, try_semaphore_twice, &sem);
    testing_crowd_join(&crowd);
    for (int i = 0; i < 5; i++)
        got += crowd.members[i].number;
    ck_assert_int_eq(got, 3);
    ck_assert_uint_eq(mtask_sem_value(&sem), 0);
}
END_TEST

static void acquire_twice(testing_member *self) {
    for (int i = 0; i < 2; i++) {
        ck_assert_status(mtask_sem_acquire((mtask_sem *)self->arg, MTASK_FOREVER), MTASK_OK);
        __atomic_fetch_add(&self->number, 1, __ATOMIC_SEQ_CST);
    }
}

static long acquired(const testing_crowd *crowd) {
    long sum = 0;
    for (int i = 0; i < crowd->count; i++)
        sum += __atomic_load_n(&crowd->members[i].number, __ATOMIC_SEQ_CST);
    return sum;
}

/* So many were given out, and those who want more sleep. */
static void check_acquired(const testing_crowd *crowd, long expected) {
    while (acquired(crowd) < expected)
        testing_pause(1);
    testing_crowd_await_settled(crowd);
    ck_assert_int_eq(acquired(crowd), expected);
}

START_TEST(semaphore_gives_ten_waiters_just_what_is_released) {
    mtask_sem sem;
    testing_crowd crowd;
    ck_assert_status(mtask_sem_init(&sem, 7, 0, 0), MTASK_OK);
    ck_assert_status(mtask_sem_acquire(&sem, MTASK_FOREVER), MTASK_OK);
    testing_crowd_start(&crowd, 10, acquire_twice, &sem);
    check_acquired(&crowd, 6);
    for (int i = 0; i < 7; i++)
        ck_assert_status(mtask_sem_release(&sem, 1), MTASK_OK);
    check_acquired(&crowd, 13);
    ck_assert_status(mtask_sem_release(&sem, 6), MTASK_OK);
    check_acquired(&crowd, 19);
    ck_assert_status(mtask_sem_acquire(&sem, MTASK_NOWAIT), MTASK_TIMEOUT);
    ck_assert_status(mtask_sem_release(&sem, 1), MTASK_OK);
    testing_crowd_join(&crowd);
    ck_assert_int_eq(acquired(&crowd), 20);
    ck_assert_uint_eq(mtask_sem_value(&sem), 0);
}
END_TEST

static void acquire_once(testing_member *self) {
    self->status = mtask_sem_acquire((mtask_sem *)self->arg, MTASK_FOREVER);
}

START_TEST(bounded_semaphore_over_release_is_refused_to_waiters_too) {
    mtask_sem sem;
    testing_crowd crowd;
    ck_assert_status(mtask_sem_init(&sem, 0, 2, 0), MTASK_OK);
    testing_crowd_start(&crowd, 3, acquire_once, &sem);
    testing_crowd_await_asleep(&crowd, 3);
    ck_assert_status(mtask_sem_release(&sem, 3), MTASK_OVERFLOW);
    testing_crowd_await_asleep(&crowd, 3);
    ck_assert_status(mtask_sem_release(&sem, 2), MTASK_OK);
    testing_await_finished(&crowd, 2);
    testing_crowd_await_asleep(&crowd, 1);
    ck_assert_uint_eq(mtask_sem_value(&sem), 0);
    ck_assert_status(mtask_sem_release(&sem, 1), MTASK_OK);
    testing_crowd_join(&crowd);
}
END_TEST

static void acquire_for_20_ms(testing_member *self) {
    int64_t start = mtask_now();
    self->status = mtask_sem_acquire((mtask_sem *)self->arg, MTASK_MS(20));
    self->took = mtask_now() - start;
}

START_TEST(semaphore_timeout_takes_its_time_and_leaves_it_in_order) {
    mtask_sem sem = {0, 0};
    testing_crowd crowd;
    testing_crowd_start(&crowd, 3, acquire_for_20_ms, &sem);
    testing_crowd_join(&crowd);
    for (int i = 0; i < 3; i++) {
        ck_assert_status(crowd.members[i].status, MTASK_TIMEOUT);
        ck_assert_int_ge(crowd.members[i].took, MTASK_MS(20));
    }
    ck_assert_uint_eq(mtask_sem_value(&sem), 0);
    ck_assert_status(mtask_sem_release(&sem, 1), MTASK_OK);
    ck_assert_status(mtask_sem_acquire(&sem, MTASK_NOWAIT), MTASK_OK);
    ck_assert_status(mtask_sem_acquire(&sem, MTASK_NOWAIT), MTASK_TIMEOUT);
}
END_TEST

START_TEST(semaphore_wait_goes_on_after_signals_and_uses_no_cpu) {
    mtask_sem sem = {0, 0};
    testing_crowd crowd;
    testing_catch_signals();
    testing_crowd_start(&crowd, 1, acquire_once, &sem);
    testing_interrupt(&crowd.members[0]);
    ck_assert_int_eq(testing_crowd_finished(&crowd), 0);
    testing_check_idle(&crowd.members[0]);
    ck_assert_status(mtask_sem_release(&sem, 1), MTASK_OK);
    testing_crowd_join(&crowd);
    ck_assert_status(crowd.members[0].status, MTASK_OK);
}
END_TEST

/* Both the sleeper and the one who comes later get what a forked child releases for itself. */
static bool use_semaphore_in_child(mtask_sem *sem) {
    testing_crowd crowd;
    testing_crowd_start(&crowd, 2, acquire_once, sem);
    testing_crowd_await_asleep(&crowd, 2);
    if (mtask_sem_release(sem, 2) != MTASK_OK)
        return false;
    testing_crowd_join(&crowd);
    return mtask_sem_value(sem) == 0;
}

START_TEST(semaphore_is_usable_in_a_forked_child) {
    mtask_sem sem = {0, 0};
    int status = 0;
    pid_t pid;
    ck_assert(use_semaphore_in_child(&sem));
    pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0)
        _exit(use_semaphore_in_child(&sem) ? 0 : 1);
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_int_eq(status, 0);
}
END_TEST

/* How many are inside never exceeds what the semaphore allows. */
typedef struct club {
    mtask_sem sem;
    int inside;
    int seats;
    long rounds;
    uint64_t seed;
    int64_t start;
} club;

static int64_t random_timeout(testing_random *random) {
    uint64_t kind = testing_below(random, 8);
    if (kind == 0)
        return MTASK_NOWAIT;
    if (kind == 1)
        return MTASK_FOREVER;
    return (int64_t)testing_below(random, kind < 5 ? 5000 : 200000);
}

static void visit(testing_member *self) {
    club *all = (club *)self->arg;
    testing_random random = testing_random_make(all->seed, (unsigned)self->index);
    for (long i = 0; i < all->rounds && testing_has_time(all->start); i++) {
        mtask_status status = mtask_sem_acquire(&all->sem, random_timeout(&random));
        if (status == MTASK_TIMEOUT)
            continue;
        ck_assert_status(status, MTASK_OK);
        testing_check(__atomic_fetch_add(&all->inside, 1, __ATOMIC_RELAXED) < all->seats);
        if (testing_below(&random, 8) == 0)
            sched_yield();
        testing_check(__atomic_fetch_sub(&all->inside, 1, __ATOMIC_RELAXED) > 0);
        ck_assert_status(mtask_sem_release(&all->sem, 1), MTASK_OK);
    }
}

START_TEST(semaphore_never_lets_more_in_than_its_value) {
    for (int seats = 1; seats <= 3; seats += 2) {
        for (int bounded = 0; bounded < 2; bounded++) {
            club all = {.seats = seats, .rounds = testing_scale(10000), .seed = testing_seed()};
            testing_crowd crowd;
            ck_assert_status(mtask_sem_init(&all.sem, seats, bounded ? seats : 0, 0), MTASK_OK);
            all.start = mtask_now() - MTASK_MS(400); /* four times: half the time for each */
            testing_crowd_start(&crowd, 6, visit, &all);
            testing_crowd_join(&crowd);
            ck_assert_uint_eq(mtask_sem_value(&all.sem), (unsigned)seats);
        }
    }
}
END_TEST

/* Releases of one and of many against time-outs: each buyer gets as many as were released for it.
   Number 1 waits for ever, so that a lost wake-up is a hang. */
typedef struct shop {
    mtask_sem sem;
    long quota;
    uint64_t seed;
} shop;

static void sell_or_buy(testing_member *self) {
    shop *all = (shop *)self->arg;
    testing_random random = testing_random_make(all->seed, (unsigned)self->index);
    long left = self->index == 0 ? all->quota * 3 : all->quota;
    while (left > 0) {
        int64_t n = 1;
        if (self->index == 0) {
            n += (int64_t)testing_below(&random, left < 3 ? 1 : 3);
            ck_assert_status(mtask_sem_release(&all->sem, n), MTASK_OK);
        } else if (mtask_sem_acquire(&all->sem,
                                     self->index == 1 ? MTASK_FOREVER : random_timeout(&random)) !=
                   MTASK_OK) {
            n = 0;
        }
        left -= n;
    }
}

START_TEST(semaphore_loses_nothing_that_was_released) {
    shop all = {.quota = testing_scale(15000), .seed = testing_seed()};
    testing_crowd crowd;
    testing_crowd_start(&crowd, 4, sell_or_buy, &all);
    testing_crowd_join(&crowd);
    ck_assert_uint_eq(mtask_sem_value(&all.sem), 0);
}
END_TEST

/* The one who acquires frees, while the other may still be inside its release. */
static bool leave_semaphore(void *object, int player, testing_random *random) {
    mtask_sem *sem = (mtask_sem *)object;
    (void)random;
    if (player == 1)
        ck_assert_status(mtask_sem_acquire(sem, MTASK_FOREVER), MTASK_OK);
    else
        ck_assert_status(mtask_sem_release(sem, 1), MTASK_OK);
    return player == 1;
}

START_TEST(semaphore_may_be_freed_by_the_last_who_acquires) {
    testing_play(sizeof(mtask_sem), NULL, leave_semaphore);
}
END_TEST

static void init_bounded_semaphore(void *object) {
    ck_assert_status(mtask_sem_init((mtask_sem *)object, 0, 2, 0), MTASK_OK);
}

static bool leave_bounded_semaphore(void *object, int player, testing_random *random) {
    mtask_sem *sem = (mtask_sem *)object;
    (void)random;
    if (player == 1)
        for (int i = 0; i < 2; i++)
            ck_assert_status(mtask_sem_acquire(sem, MTASK_FOREVER), MTASK_OK);
    else
        ck_assert_status(mtask_sem_release(sem, 2), MTASK_OK);
    return player == 1;
}

START_TEST(bounded_semaphore_may_be_freed_by_the_last_who_acquires) {
    testing_play(sizeof(mtask_sem), init_bounded_semaphore, leave_bounded_semaphore);
}
END_TEST

/* ---- event ---- */

START_TEST(event_is_four_bytes_and_not_set_when_zeroed) {
    static mtask_event event;
    ck_assert_uint_eq(sizeof event, 4);
    for (int i = 0; i < 2; i++) {
        ck_assert(!mtask_event_is_set(&event));
        ck_assert_status(mtask_event_wait(&event, MTASK_NOWAIT), MTASK_TIMEOUT);
        mtask_event_set(&event);
        ck_assert(mtask_event_is_set(&event));
        mtask_event_set(&event);
        ck_assert(mtask_event_is_set(&event));
        ck_assert_status(mtask_event_wait(&event, MTASK_NOWAIT), MTASK_OK);
        ck_assert_status(mtask_event_wait(&event, MTASK_FOREVER), MTASK_OK);
        mtask_event_clear(&event);
        ck_assert(!mtask_event_is_set(&event));
        mtask_event_clear(&event);
    }
}
END_TEST

START_TEST(event_init_refuses_unknown_flags) {
    mtask_event event;
    memset(&event, 0xff, sizeof event);
    ck_assert_status(mtask_event_init(&event, MTASK_PRIVATE), MTASK_OK);
    ck_assert(!mtask_event_is_set(&event));
    ck_assert_status(mtask_event_init(&event, 2), MTASK_INVALID);
    ck_assert_status(mtask_event_init(&event, 4), MTASK_INVALID);
    ck_assert_status(mtask_event_init(&event, -1), MTASK_INVALID);
}
END_TEST

START_TEST(event_refuses_negative_timeouts_even_when_set) {
    mtask_event event = {0};
    ck_assert_status(mtask_event_wait(&event, -1), MTASK_INVALID);
    mtask_event_set(&event);
    ck_assert_status(mtask_event_wait(&event, -1), MTASK_INVALID);
    ck_assert_status(mtask_event_wait(&event, INT64_MIN), MTASK_INVALID);
}
END_TEST

static void wait_for_event_twice(testing_member *self) {
    mtask_event *event = (mtask_event *)self->arg;
    ck_assert_status(mtask_event_wait(event, MTASK_FOREVER), MTASK_OK);
    self->status = mtask_event_wait(event, MTASK_FOREVER);
    self->number = mtask_event_is_set(event);
}

START_TEST(event_set_releases_all_and_stays_set) {
    mtask_event event = {0};
    testing_crowd crowd;
    for (int round = 0; round < 2; round++) {
        testing_crowd_start(&crowd, 5, wait_for_event_twice, &event);
        testing_crowd_await_asleep(&crowd, 5);
        ck_assert_int_eq(testing_crowd_finished(&crowd), 0);
        mtask_event_set(&event);
        testing_crowd_join(&crowd);
        ck_assert_int_eq(testing_crowd_count(&crowd, MTASK_OK), 5);
        for (int i = 0; i < 5; i++)
            ck_assert_int_eq(crowd.members[i].number, 1);
        mtask_event_set(&event);
        mtask_event_clear(&event);
    }
}
END_TEST

static void wait_for_event(testing_member *self) {
    self->status = mtask_event_wait((mtask_event *)self->arg, MTASK_FOREVER);
}

START_TEST(event_set_then_clear_releases_all_who_waited) {
    mtask_event event = {0};
    testing_crowd crowd;
    for (int round = 0; round < 20; round++) {
        testing_crowd_start(&crowd, 5, wait_for_event, &event);
        testing_crowd_await_asleep(&crowd, 5);
        mtask_event_set(&event);
        mtask_event_clear(&event);
        ck_assert(!mtask_event_is_set(&event));
        testing_crowd_join(&crowd);
        ck_assert_int_eq(testing_crowd_count(&crowd, MTASK_OK), 5);
        ck_assert_status(mtask_event_wait(&event, MTASK_NOWAIT), MTASK_TIMEOUT);
    }
}
END_TEST

START_TEST(event_generation_wraps_without_harm) {
    mtask_event event = {(((mtask_word)1 << 29) - 1) << 2}; /* as after 2^29 - 1 sets */
    testing_crowd crowd;
    for (int round = 0; round < 2; round++) {
        testing_crowd_start(&crowd, 2, wait_for_event, &event);
        testing_crowd_await_asleep(&crowd, 2);
        mtask_event_set(&event);
        mtask_event_clear(&event);
        testing_crowd_join(&crowd);
        ck_assert_uint_eq(event.word & MTASK__SHARED, 0);
        ck_assert(!mtask_event_is_set(&event));
    }
    ck_assert_uint_eq(event.word >> 2, 1); /* it did wrap */
}
END_TEST

static void wait_for_event_20_ms(testing_member *self) {
    mtask_event *event = (mtask_event *)self->arg;
    int64_t start = mtask_now();
    mtask_status at_once = mtask_event_wait(event, MTASK_NOWAIT);
    self->status = mtask_event_wait(event, MTASK_MS(20));
    self->took = mtask_now() - start;
    ck_assert_status(at_once, self->status);
}

START_TEST(event_timeout_takes_its_time_unless_it_is_set) {
    mtask_event event = {0};
    testing_crowd crowd;
    testing_crowd_start(&crowd, 5, wait_for_event_20_ms, &event);
    testing_crowd_join(&crowd);
    ck_assert_int_eq(testing_crowd_count(&crowd, MTASK_TIMEOUT), 5);
    for (int i = 0; i < 5; i++)
        ck_assert_int_ge(crowd.members[i].took, MTASK_MS(20));
    mtask_event_set(&event);
    testing_crowd_start(&crowd, 5, wait_for_event_20_ms, &event);
    testing_crowd_join(&crowd);
    ck_assert_int_eq(testing_crowd_count(&crowd, MTASK_OK), 5);
}
END_TEST

START_TEST(event_wait_goes_on_after_signals_and_uses_no_cpu) {
    mtask_event event = {0};
    testing_crowd crowd;
    testing_catch_signals();
    testing_crowd_start(&crowd, 1, wait_for_event, &event);
    testing_interrupt(&crowd.members[0]);
    ck_assert_int_eq(testing_crowd_finished(&crowd), 0);
    testing_check_idle(&crowd.members[0]);
    mtask_event_clear(&event); /* no reason to wake */
    testing_await_asleep(&crowd.members[0]);
    mtask_event_set(&event);
    testing_crowd_join(&crowd);
    ck_assert_status(crowd.members[0].status, MTASK_OK);
}
END_TEST

/* Two threads, two events, a plain message: each set is seen, with what was written before it. */
typedef struct mail {
    mtask_event events[2];
    long message;
    long rounds;
} mail;

static void exchange_mail(testing_member *self) {
    mail *all = (mail *)self->arg;
    for (long i = 0; i < all->rounds; i++) {
        if (self->index == 0) {
            all->message = i * 2;
            mtask_event_set(&all->events[0]);
            ck_assert_status(mtask_event_wait(&all->events[1], MTASK_FOREVER), MTASK_OK);
            mtask_event_clear(&all->events[1]);
            testing_check(all->message == i * 2 + 1);
        } else {
            ck_assert_status(mtask_event_wait(&all->events[0], MTASK_FOREVER), MTASK_OK);
            mtask_event_clear(&all->events[0]);
            testing_check(all->message == i * 2);
            all->message++;
            mtask_event_set(&all->events[1]);
        }
    }
}

START_TEST(event_sets_are_seen_with_what_was_written_before) {
    mail all = {.rounds = testing_scale(10000)};
    testing_crowd crowd;
    testing_crowd_start(&crowd, 2, exchange_mail, &all);
    testing_crowd_join(&crowd);
}
END_TEST

/* Sets, clears and waits of all kinds at once; after the last set everybody comes home. */
typedef struct storm {
    mtask_event event;
    mtask_word over;
    uint64_t seed;
    int64_t start;
} storm;

static void be_in_storm(testing_member *self) {
    storm *all = (storm *)self->arg;
    testing_random random = testing_random_make(all->seed, (unsigned)self->index);
    while (mtask_word_load(&all->over) == 0) {
        mtask_status status = MTASK_OK;
        if (self->index < 4)
            status = mtask_event_wait(&all->event, random_timeout(&random));
        else if (testing_below(&random, 2) == 0)
            mtask_event_set(&all->event);
        else
            mtask_event_clear(&all->event);
        testing_check(status == MTASK_OK || status == MTASK_TIMEOUT);
        self->number++;
    }
}

START_TEST(event_lets_everybody_come_home_from_a_storm) {
    storm all = {.seed = testing_seed()};
    testing_crowd crowd;
    testing_crowd_start(&crowd, 6, be_in_storm, &all);
    testing_pause(500);
    mtask_word_store(&all.over, 1);
    for (int i = 4; i < 6; i++) /* nobody clears any more */
        testing_check(pthread_join(crowd.members[i].thread, NULL) == 0);
    mtask_event_set(&all.event);
    for (int i = 0; i < 4; i++)
        testing_check(pthread_join(crowd.members[i].thread, NULL) == 0);
    ck_assert(mtask_event_is_set(&all.event));
}
END_TEST

/* The waiter frees while the other may still be inside its set. */
static bool leave_event(void *object, int player, testing_random *random) {
    mtask_event *event = (mtask_event *)object;
    (void)random;
    if (player == 1)
        ck_assert_status(mtask_event_wait(event, MTASK_FOREVER), MTASK_OK);
    else
        mtask_event_set(event);
    return player == 1;
}

START_TEST(event_may_be_freed_by_the_waiter_that_it_released) {
    testing_play(sizeof(mtask_event), NULL, leave_event);
}
END_TEST

TESTING_MAIN("sem_event", semaphore_is_eight_bytes_and_zero_when_zeroed,
             semaphore_init_refuses_what_it_cannot_be, semaphore_gives_as_many_as_it_has,
             semaphore_refuses_negative_timeouts_and_takes_nothing,
             semaphore_refuses_to_release_fewer_than_one, semaphore_does_not_overflow,
             bounded_semaphore_refuses_more_than_its_limit,
             semaphore_tries_of_five_threads_get_just_what_is_there,
             semaphore_gives_ten_waiters_just_what_is_released,
             bounded_semaphore_over_release_is_refused_to_waiters_too,
             semaphore_timeout_takes_its_time_and_leaves_it_in_order,
             semaphore_wait_goes_on_after_signals_and_uses_no_cpu,
             semaphore_is_usable_in_a_forked_child, semaphore_never_lets_more_in_than_its_value,
             semaphore_loses_nothing_that_was_released,
             semaphore_may_be_freed_by_the_last_who_acquires,
             bounded_semaphore_may_be_freed_by_the_last_who_acquires,
             event_is_four_bytes_and_not_set_when_zeroed, event_init_refuses_unknown_flags,
             event_refuses_negative_timeouts_even_when_set, event_set_releases_all_and_stays_set,
             event_set_then_clear_releases_all_who_waited, event_generation_wraps_without_harm,
             event_timeout_takes_its_time_unless_it_is_set,
             event_wait_goes_on_after_signals_and_uses_no_cpu,
             event_sets_are_seen_with_what_was_written_before,
             event_lets_everybody_come_home_from_a_storm,
             event_may_be_freed_by_the_waiter_that_it_released)
