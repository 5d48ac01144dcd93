/* test_mtask_rwlock.c - the lock for many readers or one writer */
#include "testing_threads.h"

#include <sys/wait.h>

START_TEST(rwlock_is_four_bytes_and_ready_when_zeroed) {
    static mtask_rwlock rwlock;
    ck_assert_uint_eq(sizeof rwlock, 4);
    ck_assert_status(mtask_rwlock_lock_read(&rwlock), MTASK_OK);
    ck_assert_status(mtask_rwlock_unlock_read(&rwlock), MTASK_OK);
    ck_assert_status(mtask_rwlock_lock_write(&rwlock), MTASK_OK);
    ck_assert_status(mtask_rwlock_unlock_write(&rwlock), MTASK_OK);
    ck_assert_uint_eq(rwlock.word, 0);
}
END_TEST

START_TEST(rwlock_init_makes_an_unlocked_one_and_refuses_unknown_flags) {
    mtask_rwlock rwlock;
    memset(&rwlock, 0xff, sizeof rwlock);
    ck_assert_status(mtask_rwlock_init(&rwlock, MTASK_PRIVATE), MTASK_OK);
    ck_assert_status(mtask_rwlock_lock_write_for(&rwlock, MTASK_NOWAIT), MTASK_OK);
    ck_assert_status(mtask_rwlock_init(&rwlock, 2), MTASK_INVALID);
    ck_assert_status(mtask_rwlock_init(&rwlock, 4), MTASK_INVALID);
    ck_assert_status(mtask_rwlock_init(&rwlock, -1), MTASK_INVALID);
}
END_TEST

START_TEST(rwlock_is_for_many_readers_or_one_writer) {
    mtask_rwlock rwlock = {0};
    for (int i = 0; i < 3; i++)
        ck_assert_status(mtask_rwlock_lock_read_for(&rwlock, MTASK_NOWAIT), MTASK_OK);
    for (int i = 0; i < 3; i++) {
        ck_assert_status(mtask_rwlock_lock_write_for(&rwlock, MTASK_NOWAIT), MTASK_TIMEOUT);
        ck_assert_status(mtask_rwlock_unlock_read(&rwlock), MTASK_OK);
    }
    ck_assert_status(mtask_rwlock_lock_write_for(&rwlock, MTASK_NOWAIT), MTASK_OK);
    ck_assert_status(mtask_rwlock_lock_write_for(&rwlock, MTASK_NOWAIT), MTASK_TIMEOUT);
    ck_assert_status(mtask_rwlock_lock_read_for(&rwlock, MTASK_NOWAIT), MTASK_TIMEOUT);
    ck_assert_status(mtask_rwlock_unlock_write(&rwlock), MTASK_OK);
    ck_assert_status(mtask_rwlock_lock_read_for(&rwlock, MTASK_NOWAIT), MTASK_OK);
    ck_assert_status(mtask_rwlock_unlock_read(&rwlock), MTASK_OK);
}
END_TEST

START_TEST(rwlock_that_is_not_held_so_cannot_be_unlocked_so) {
    mtask_rwlock rwlock = {0};
    ck_assert_status(mtask_rwlock_unlock_read(&rwlock), MTASK_INVALID);
    ck_assert_status(mtask_rwlock_unlock_write(&rwlock), MTASK_INVALID);
    ck_assert_status(mtask_rwlock_lock_read(&rwlock), MTASK_OK);
    ck_assert_status(mtask_rwlock_unlock_write(&rwlock), MTASK_INVALID);
    ck_assert_status(mtask_rwlock_unlock_read(&rwlock), MTASK_OK);
    ck_assert_status(mtask_rwlock_unlock_read(&rwlock), MTASK_INVALID);
    ck_assert_status(mtask_rwlock_lock_write(&rwlock), MTASK_OK);
    ck_assert_status(mtask_rwlock_unlock_read(&rwlock), MTASK_INVALID);
    ck_assert_status(mtask_rwlock_unlock_write(&rwlock), MTASK_OK);
    ck_assert_uint_eq(rwlock.word, 0);
}
END_TEST

START_TEST(rwlock_refuses_negative_timeouts_and_locks_nothing) {
    mtask_rwlock rwlock = {0};
    ck_assert_status(mtask_rwlock_lock_read_for(&rwlock, -1), MTASK_INVALID);
    ck_assert_status(mtask_rwlock_lock_write_for(&rwlock, -1), MTASK_INVALID);
    ck_assert_uint_eq(rwlock.word, 0);
    ck_assert_status(mtask_rwlock_lock_write(&rwlock), MTASK_OK);
    ck_assert_status(mtask_rwlock_lock_read_for(&rwlock, INT64_MIN), MTASK_INVALID);
    ck_assert_status(mtask_rwlock_lock_write_for(&rwlock, INT64_MIN), MTASK_INVALID);
    ck_assert_status(mtask_rwlock_unlock_write(&rwlock), MTASK_OK);
}
END_TEST

START_TEST(rwlock_readers_do_not_overflow) {
    mtask_rwlock rwlock = {MTASK__RW_READERS - 1}; /* as if held by so many */
    ck_assert_status(mtask_rwlock_lock_read(&rwlock), MTASK_OK);
    ck_assert_status(mtask_rwlock_lock_read(&rwlock), MTASK_OVERFLOW);
    ck_assert_status(mtask_rwlock_lock_read_for(&rwlock, MTASK_NOWAIT), MTASK_OVERFLOW);
    ck_assert_uint_eq(rwlock.word, MTASK__RW_READERS);
    ck_assert_status(mtask_rwlock_lock_write_for(&rwlock, MTASK_NOWAIT), MTASK_TIMEOUT);
    ck_assert_status(mtask_rwlock_unlock_read(&rwlock), MTASK_OK);
    ck_assert_uint_eq(rwlock.word, MTASK__RW_READERS - 1);
    ck_assert_status(mtask_rwlock_lock_read_for(&rwlock, MTASK_NOWAIT), MTASK_OK);
}
END_TEST

/* ---- who waits for whom ---- */

/* A rwlock, and the order in which it was had. */
typedef struct library {
    mtask_rwlock rwlock;
    int next;
    int64_t timeout;      /* of those who give up */
    int readers, writers; /* inside now */
    long rounds;
    long pages[2]; /* both alike, whenever nobody writes */
    uint64_t seed;
    int64_t start;
} library;

static void read_once(testing_member *self) {
    library *all = (library *)self->arg;
    self->status = mtask_rwlock_lock_read(&all->rwlock);
    self->number = __atomic_fetch_add(&all->next, 1, __ATOMIC_SEQ_CST);
    ck_assert_status(mtask_rwlock_unlock_read(&all->rwlock), MTASK_OK);
}

static void write_once(testing_member *self) {
    library *all = (library *)self->arg;
    self->status = mtask_rwlock_lock_write(&all->rwlock);
    self->number = __atomic_fetch_add(&all->next, 1, __ATOMIC_SEQ_CST);
    ck_assert_status(mtask_rwlock_unlock_write(&all->rwlock), MTASK_OK);
}

static void write_with_timeout(testing_member *self) {
    library *all = (library *)self->arg;
    int64_t start = mtask_now();
    self->status = mtask_rwlock_lock_write_for(&all->rwlock, all->timeout);
    self->took = mtask_now() - start;
}

static void read_with_timeout(testing_member *self) {
    library *all = (library *)self->arg;
    int64_t start = mtask_now();
    self->status = mtask_rwlock_lock_read_for(&all->rwlock, all->timeout);
    self->took = mtask_now() - start;
}

START_TEST(rwlock_writer_waits_for_the_last_reader) {
    library all = {.next = 0};
    testing_crowd crowd;
    ck_assert_status(mtask_rwlock_lock_read(&all.rwlock), MTASK_OK);
    ck_assert_status(mtask_rwlock_lock_read(&all.rwlock), MTASK_OK);
    testing_crowd_start(&crowd, 1, write_once, &all);
    testing_crowd_await_asleep(&crowd, 1);
    ck_assert_status(mtask_rwlock_unlock_read(&all.rwlock), MTASK_OK);
    testing_crowd_await_asleep(&crowd, 1);
    ck_assert_status(mtask_rwlock_unlock_read(&all.rwlock), MTASK_OK);
    testing_crowd_join(&crowd);
    ck_assert_status(crowd.members[0].status, MTASK_OK);
    ck_assert_uint_eq(all.rwlock.word, 0);
}
END_TEST

START_TEST(rwlock_writer_lets_all_readers_in_when_it_goes) {
    library all = {.next = 0};
    testing_crowd crowd;
    ck_assert_status(mtask_rwlock_lock_write(&all.rwlock), MTASK_OK);
    testing_crowd_start(&crowd, 5, read_once, &all);
    testing_crowd_await_asleep(&crowd, 5);
    ck_assert_int_eq(all.next, 0);
    ck_assert_status(mtask_rwlock_unlock_write(&all.rwlock), MTASK_OK);
    testing_crowd_join(&crowd);
    ck_assert_int_eq(testing_crowd_count(&crowd, MTASK_OK), 5);
    ck_assert_status(mtask_rwlock_lock_write_for(&all.rwlock, MTASK_NOWAIT), MTASK_OK);
}
END_TEST

START_TEST(rwlock_writers_follow_each_other) {
    library all = {.next = 0};
    testing_crowd crowd;
    ck_assert_status(mtask_rwlock_lock_write(&all.rwlock), MTASK_OK);
    testing_crowd_start(&crowd, 5, write_once, &all);
    testing_crowd_await_asleep(&crowd, 5);
    ck_assert_status(mtask_rwlock_unlock_write(&all.rwlock), MTASK_OK);
    testing_crowd_join(&crowd);
    ck_assert_int_eq(testing_crowd_count(&crowd, MTASK_OK), 5);
}
END_TEST

START_TEST(rwlock_keeps_new_readers_out_while_a_writer_waits) {
    library all = {.next = 0};
    testing_crowd writer, readers;
    ck_assert_status(mtask_rwlock_lock_read(&all.rwlock), MTASK_OK);
    testing_crowd_start(&writer, 1, write_once, &all);
    testing_crowd_await_asleep(&writer, 1);
    ck_assert_status(mtask_rwlock_lock_read_for(&all.rwlock, MTASK_NOWAIT), MTASK_TIMEOUT);
    ck_assert_status(mtask_rwlock_lock_read_for(&all.rwlock, MTASK_MS(2)), MTASK_TIMEOUT);
    testing_crowd_start(&readers, 3, read_once, &all);
    testing_crowd_await_asleep(&readers, 3);
    ck_assert_status(mtask_rwlock_unlock_read(&all.rwlock), MTASK_OK);
    testing_crowd_join(&writer);
    testing_crowd_join(&readers);
    ck_assert_int_eq(writer.members[0].number, 0); /* it went first */
    ck_assert_int_eq(testing_crowd_count(&readers, MTASK_OK), 3);
}
END_TEST

START_TEST(rwlock_prefers_the_waiting_writer_to_waiting_readers) {
    library all = {.next = 0};
    testing_crowd readers, writer;
    ck_assert_status(mtask_rwlock_lock_write(&all.rwlock), MTASK_OK);
    testing_crowd_start(&readers, 3, read_once, &all);
    testing_crowd_await_asleep(&readers, 3);
    testing_crowd_start(&writer, 1, write_once, &all); /* comes last, goes first */
    testing_crowd_await_asleep(&writer, 1);
    ck_assert_status(mtask_rwlock_unlock_write(&all.rwlock), MTASK_OK);
    testing_crowd_join(&writer);
    testing_crowd_join(&readers);
    ck_assert_int_eq(writer.members[0].number, 0);
}
END_TEST

START_TEST(rwlock_writer_that_gives_up_lets_the_readers_in) {
    library all = {.next = 0, .timeout = MTASK_MS(30)};
    testing_crowd writer, readers;
    ck_assert_status(mtask_rwlock_lock_read(&all.rwlock), MTASK_OK);
    testing_crowd_start(&writer, 1, write_with_timeout, &all);
    testing_crowd_await_settled(&writer);
    testing_crowd_start(&readers, 3, read_once, &all); /* most likely it is still waiting */
    testing_crowd_join(&readers);                      /* though the first reader stays */
    testing_crowd_join(&writer);
    ck_assert_status(writer.members[0].status, MTASK_TIMEOUT);
    ck_assert_int_ge(writer.members[0].took, MTASK_MS(30));
    ck_assert_status(mtask_rwlock_lock_read_for(&all.rwlock, MTASK_NOWAIT), MTASK_OK);
    ck_assert_status(mtask_rwlock_unlock_read(&all.rwlock), MTASK_OK);
    ck_assert_status(mtask_rwlock_unlock_read(&all.rwlock), MTASK_OK);
    ck_assert_status(mtask_rwlock_lock_write_for(&all.rwlock, MTASK_NOWAIT), MTASK_OK);
}
END_TEST

START_TEST(rwlock_writer_that_gives_up_leaves_the_place_to_other_writers) {
    library all = {.next = 0, .timeout = MTASK_MS(20)};
    testing_crowd hasty, patient, readers;
    ck_assert_status(mtask_rwlock_lock_read(&all.rwlock), MTASK_OK);
    testing_crowd_start(&patient, 1, write_once, &all);
    testing_crowd_await_asleep(&patient, 1);
    testing_crowd_start(&hasty, 2, write_with_timeout, &all);
    testing_crowd_join(&hasty);
    ck_assert_int_eq(testing_crowd_count(&hasty, MTASK_TIMEOUT), 2);
    testing_crowd_start(&readers, 2, read_once, &all);
    testing_crowd_await_settled(&readers);
    ck_assert_int_eq(testing_crowd_finished(&patient), 0);
    ck_assert_status(mtask_rwlock_unlock_read(&all.rwlock), MTASK_OK);
    testing_crowd_join(&patient);
    testing_crowd_join(&readers);
    ck_assert_uint_eq(all.rwlock.word, 0);
}
END_TEST

START_TEST(rwlock_timeouts_take_their_time_and_leave_it_in_order) {
    library all = {.next = 0, .timeout = MTASK_MS(20)};
    testing_crowd writers, readers;
    ck_assert_status(mtask_rwlock_lock_write(&all.rwlock), MTASK_OK);
    testing_crowd_start(&readers, 2, read_with_timeout, &all);
    testing_crowd_start(&writers, 2, write_with_timeout, &all);
    testing_crowd_join(&writers);
    testing_crowd_join(&readers);
    for (int i = 0; i < 2; i++) {
        ck_assert_status(readers.members[i].status, MTASK_TIMEOUT);
        ck_assert_status(writers.members[i].status, MTASK_TIMEOUT);
        ck_assert_int_ge(readers.members[i].took, MTASK_MS(20));
        ck_assert_int_ge(writers.members[i].took, MTASK_MS(20));
    }
    ck_assert_status(mtask_rwlock_unlock_write(&all.rwlock), MTASK_OK);
    ck_assert_status(mtask_rwlock_unlock_write(&all.rwlock), MTASK_INVALID);
    ck_assert_status(mtask_rwlock_lock_read_for(&all.rwlock, MTASK_NOWAIT), MTASK_OK);
    ck_assert_status(mtask_rwlock_unlock_read(&all.rwlock), MTASK_OK);
    ck_assert_status(mtask_rwlock_lock_write_for(&all.rwlock, MTASK_NOWAIT), MTASK_OK);
}
END_TEST

static void unlock_read_elsewhere(testing_member *self) {
    self->status = mtask_rwlock_unlock_read(&((library *)self->arg)->rwlock);
}

START_TEST(rwlock_may_be_unlocked_by_another_thread) {
    library all = {.next = 0};
    testing_crowd crowd;
    ck_assert_status(mtask_rwlock_lock_read(&all.rwlock), MTASK_OK);
    testing_crowd_start(&crowd, 1, unlock_read_elsewhere, &all);
    testing_crowd_join(&crowd);
    ck_assert_status(crowd.members[0].status, MTASK_OK);
    ck_assert_status(mtask_rwlock_lock_write_for(&all.rwlock, MTASK_NOWAIT), MTASK_OK);
}
END_TEST

START_TEST(rwlock_waits_go_on_after_signals_and_use_no_cpu) {
    library all = {.next = 0};
    testing_crowd writer, reader;
    testing_catch_signals();
    ck_assert_status(mtask_rwlock_lock_write(&all.rwlock), MTASK_OK);
    testing_crowd_start(&writer, 1, write_once, &all);
    testing_crowd_start(&reader, 1, read_once, &all);
    testing_interrupt(&writer.members[0]);
    testing_interrupt(&reader.members[0]);
    ck_assert_int_eq(all.next, 0);
    testing_check_idle(&writer.members[0]);
    testing_check_idle(&reader.members[0]);
    ck_assert_status(mtask_rwlock_unlock_write(&all.rwlock), MTASK_OK);
    testing_crowd_join(&writer);
    testing_crowd_join(&reader);
}
END_TEST

static bool use_rwlock_in_child(library *all) {
    testing_crowd readers, writer;
    ck_assert_status(mtask_rwlock_lock_write(&all->rwlock), MTASK_OK);
    testing_crowd_start(&readers, 2, read_once, all);
    testing_crowd_start(&writer, 1, write_once, all);
    testing_crowd_await_asleep(&readers, 2);
    testing_crowd_await_asleep(&writer, 1);
    ck_assert_status(mtask_rwlock_unlock_write(&all->rwlock), MTASK_OK);
    testing_crowd_join(&readers);
    testing_crowd_join(&writer);
    return all->rwlock.word == 0;
}

START_TEST(rwlock_is_usable_in_a_forked_child) {
    library all = {.next = 0};
    int status = 0;
    pid_t pid;
    ck_assert(use_rwlock_in_child(&all));
    pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0)
        _exit(use_rwlock_in_child(&all) ? 0 : 1);
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_int_eq(status, 0);
}
END_TEST

/* ---- stress ---- */

static int64_t random_timeout(testing_random *random) {
    uint64_t kind = testing_below(random, 8);
    if (kind == 0)
        return MTASK_NOWAIT;
    if (kind == 1)
        return MTASK_FOREVER;
    return (int64_t)testing_below(random, kind < 5 ? 5000 : 200000);
}

static void read_pages(library *all, bool linger) {
    testing_check(__atomic_fetch_add(&all->readers, 1, __ATOMIC_RELAXED) >= 0);
    testing_check(__atomic_load_n(&all->writers, __ATOMIC_RELAXED) == 0);
    testing_check(all->pages[0] == all->pages[1]);
    if (linger)
        sched_yield();
    __atomic_fetch_sub(&all->readers, 1, __ATOMIC_RELAXED);
}

static void write_pages(library *all, bool linger) {
    testing_check(__atomic_fetch_add(&all->writers, 1, __ATOMIC_RELAXED) == 0);
    testing_check(__atomic_load_n(&all->readers, __ATOMIC_RELAXED) == 0);
    all->pages[0]++;
    if (linger)
        sched_yield();
    all->pages[1]++;
    __atomic_fetch_sub(&all->writers, 1, __ATOMIC_RELAXED);
}

static void use_library(testing_member *self) {
    library *all = (library *)self->arg;
    testing_random random = testing_random_make(all->seed, (unsigned)self->index);
    for (long i = 0; i < all->rounds && testing_has_time(all->start); i++) {
        bool linger = testing_below(&random, 8) == 0;
        int64_t timeout = random_timeout(&random);
        if (testing_below(&random, 8) < (self->index < 2 ? 6 : 1)) {
            if (mtask_rwlock_lock_write_for(&all->rwlock, timeout) != MTASK_OK)
                continue;
            write_pages(all, linger);
            ck_assert_status(mtask_rwlock_unlock_write(&all->rwlock), MTASK_OK);
            self->number++;
        } else if (mtask_rwlock_lock_read_for(&all->rwlock, timeout) == MTASK_OK) {
            read_pages(all, linger);
            ck_assert_status(mtask_rwlock_unlock_read(&all->rwlock), MTASK_OK);
        }
    }
}

START_TEST(rwlock_keeps_readers_and_writers_apart_among_random_timeouts) {
    library all = {.rounds = testing_scale(30000), .seed = testing_seed()};
    testing_crowd crowd;
    long written = 0;
    all.start = mtask_now();
    testing_crowd_start(&crowd, 6, use_library, &all);
    testing_crowd_join(&crowd);
    for (int i = 0; i < 6; i++)
        written += crowd.members[i].number;
    ck_assert_int_eq(all.pages[0], written);
    ck_assert_int_eq(all.pages[1], written);
    ck_assert_status(mtask_rwlock_lock_write_for(&all.rwlock, MTASK_NOWAIT), MTASK_OK);
}
END_TEST

/* Like the test above, but almost nobody is patient and all wait for the same few moments: wake-ups
   meet time-outs. The patient ones would hang. */
static void come_and_give_up(testing_member *self) {
    library *all = (library *)self->arg;
    testing_random random = testing_random_make(all->seed, (unsigned)self->index);
    for (long i = 0; i < all->rounds && testing_has_time(all->start); i++) {
        bool write = (self->index & 1) != 0;
        int64_t timeout =
            self->index < 2 ? MTASK_FOREVER : (int64_t)testing_below(&random, MTASK_US(80));
        mtask_status status = write ? mtask_rwlock_lock_write_for(&all->rwlock, timeout)
                                    : mtask_rwlock_lock_read_for(&all->rwlock, timeout);
        if (status != MTASK_OK)
            continue;
        if (testing_below(&random, 4) == 0)
            mtask_sleep(MTASK_US(50));
        ck_assert_status(write ? mtask_rwlock_unlock_write(&all->rwlock)
                               : mtask_rwlock_unlock_read(&all->rwlock),
                         MTASK_OK);
    }
}

START_TEST(rwlock_waiter_that_gives_up_takes_no_wake_up_along) {
    library all = {.rounds = testing_scale(10000), .seed = testing_seed()};
    testing_crowd crowd;
    all.start = mtask_now();
    testing_crowd_start(&crowd, 6, come_and_give_up, &all);
    testing_crowd_join(&crowd);
    ck_assert_status(mtask_rwlock_lock_write_for(&all.rwlock, MTASK_NOWAIT), MTASK_OK);
}
END_TEST

typedef struct boxed_rwlock {
    mtask_rwlock rwlock;
    int alone;      /* TSan remembers only a few accesses to each 8 bytes: keeps others off them */
    bool writes[2]; /* what each player does; at least one of them */
    int gone;
} boxed_rwlock;

static void init_boxed_rwlock(void *object) {
    static unsigned rounds;
    boxed_rwlock *box = (boxed_rwlock *)object;
    unsigned round = rounds++ % 5;
    box->writes[0] = round < 3;
    box->writes[1] = round >= 2;
}

static bool leave_rwlock(void *object, int player, testing_random *random) {
    boxed_rwlock *box = (boxed_rwlock *)object;
    bool write = box->writes[player];
    bool last;
    ck_assert_status(write ? mtask_rwlock_lock_write(&box->rwlock)
                           : mtask_rwlock_lock_read(&box->rwlock),
                     MTASK_OK);
    last = __atomic_add_fetch(&box->gone, 1, __ATOMIC_RELAXED) == 2;
    testing_dawdle(random, 12000); /* the other goes to sleep */
    ck_assert_status(write ? mtask_rwlock_unlock_write(&box->rwlock)
                           : mtask_rwlock_unlock_read(&box->rwlock),
                     MTASK_OK);
    return last;
}

START_TEST(rwlock_may_be_freed_by_the_last_who_unlocks_it) {
    testing_play(sizeof(boxed_rwlock), init_boxed_rwlock, leave_rwlock);
}
END_TEST

TESTING_MAIN("rwlock", rwlock_is_four_bytes_and_ready_when_zeroed,
             rwlock_init_makes_an_unlocked_one_and_refuses_unknown_flags,
             rwlock_is_for_many_readers_or_one_writer,
             rwlock_that_is_not_held_so_cannot_be_unlocked_so,
             rwlock_refuses_negative_timeouts_and_locks_nothing, rwlock_readers_do_not_overflow,
             rwlock_writer_waits_for_the_last_reader,
             rwlock_writer_lets_all_readers_in_when_it_goes, rwlock_writers_follow_each_other,
             rwlock_keeps_new_readers_out_while_a_writer_waits,
             rwlock_prefers_the_waiting_writer_to_waiting_readers,
             rwlock_writer_that_gives_up_lets_the_readers_in,
             rwlock_writer_that_gives_up_leaves_the_place_to_other_writers,
             rwlock_timeouts_take_their_time_and_leave_it_in_order,
             rwlock_may_be_unlocked_by_another_thread,
             rwlock_waits_go_on_after_signals_and_use_no_cpu, rwlock_is_usable_in_a_forked_child,
             rwlock_keeps_readers_and_writers_apart_among_random_timeouts,
             rwlock_waiter_that_gives_up_takes_no_wake_up_along,
             rwlock_may_be_freed_by_the_last_who_unlocks_it)
