/* test_mtask_guard.c - locks that are let go of at the end of the scope, in C */
#include "testing_threads.h"

#if TESTING_TSAN
/* The shared mutex is a pthread mutex, taken with a timed lock: TSan does not know that such a lock
   may be had from a dead owner, and would call its unlocking wrong. */
const char *__tsan_default_options(void);
const char *__tsan_default_options(void) {
    return "report_mutex_bugs=0:report_destroy_locked=0";
}
#endif

/* One lock of each kind. */
typedef struct locks {
    mtask_mutex mutex;
    mtask_rmutex rmutex;
    mtask_shared_mutex shared;
    mtask_sem sem;
    mtask_rwlock rwlock;
} locks;

static void init_locks(locks *all) {
    memset(all, 0, sizeof *all);
    ck_assert_status(mtask_shared_mutex_init(&all->shared), MTASK_OK);
    ck_assert_status(mtask_sem_init(&all->sem, 1, 1, 0), MTASK_OK);
}

/* Whether another thread could lock it: a word of bits, mutex first. */
static void look_from_outside(testing_member *self) {
    locks *all = (locks *)self->arg;
    self->number |= mtask_mutex_lock_for(&all->mutex, MTASK_NOWAIT) == MTASK_OK ? 1 : 0;
    self->number |= mtask_rmutex_lock_for(&all->rmutex, MTASK_NOWAIT) == MTASK_OK ? 2 : 0;
    self->number |= mtask_shared_mutex_lock_for(&all->shared, MTASK_NOWAIT) == MTASK_OK ? 4 : 0;
    self->number |= mtask_sem_acquire(&all->sem, MTASK_NOWAIT) == MTASK_OK ? 8 : 0;
    self->number |= mtask_rwlock_lock_read_for(&all->rwlock, MTASK_NOWAIT) == MTASK_OK ? 16 : 0;
    if ((self->number & 16) != 0)
        ck_assert_status(mtask_rwlock_unlock_read(&all->rwlock), MTASK_OK);
    self->number |= mtask_rwlock_lock_write_for(&all->rwlock, MTASK_NOWAIT) == MTASK_OK ? 32 : 0;
    if ((self->number & 1) != 0)
        ck_assert_status(mtask_mutex_unlock(&all->mutex), MTASK_OK);
    if ((self->number & 2) != 0)
        ck_assert_status(mtask_rmutex_unlock(&all->rmutex), MTASK_OK);
    if ((self->number & 4) != 0)
        ck_assert_status(mtask_shared_mutex_unlock(&all->shared), MTASK_OK);
    if ((self->number & 8) != 0)
        ck_assert_status(mtask_sem_release(&all->sem, 1), MTASK_OK);
    if ((self->number & 32) != 0)
        ck_assert_status(mtask_rwlock_unlock_write(&all->rwlock), MTASK_OK);
}

enum { MUTEX = 1, RMUTEX = 2, SHARED = 4, SEM = 8, READ = 16, WRITE = 32, ALL_FREE = 63 };

/* What of the locks is free, as another thread sees it. */
static long what_is_free(locks *all) {
    testing_crowd crowd;
    testing_crowd_start(&crowd, 1, look_from_outside, all);
    testing_crowd_join(&crowd);
    return crowd.members[0].number;
}

START_TEST(guard_holds_each_kind_of_lock_to_the_end_of_the_block) {
    locks all;
    init_locks(&all);
    ck_assert_int_eq(what_is_free(&all), ALL_FREE);
    {
        MTASK_GUARD(&all.mutex);
        ck_assert_int_eq(what_is_free(&all), ALL_FREE - MUTEX);
        MTASK_GUARD(&all.rmutex);
        MTASK_GUARD(&all.shared);
        ck_assert_int_eq(what_is_free(&all), SEM + READ + WRITE);
        MTASK_GUARD(&all.sem);
        MTASK_GUARD_READ(&all.rwlock);
        ck_assert_int_eq(what_is_free(&all), READ);
    }
    ck_assert_int_eq(what_is_free(&all), ALL_FREE);
    {
        MTASK_GUARD_WRITE(&all.rwlock);
        ck_assert_int_eq(what_is_free(&all), ALL_FREE - READ - WRITE);
    }
    ck_assert_int_eq(what_is_free(&all), ALL_FREE);
}
END_TEST

START_TEST(with_holds_each_kind_of_lock_during_its_block) {
    locks all;
    int runs = 0;
    init_locks(&all);
    MTASK_WITH(&all.mutex)
        runs += what_is_free(&all) == ALL_FREE - MUTEX;
    MTASK_WITH(&all.rmutex) {
        runs += what_is_free(&all) == ALL_FREE - RMUTEX;
    }
    MTASK_WITH(&all.shared) {
        runs += what_is_free(&all) == ALL_FREE - SHARED;
    }
    MTASK_WITH(&all.sem) {
        runs += what_is_free(&all) == ALL_FREE - SEM;
    }
    MTASK_WITH_READ(&all.rwlock) {
        runs += what_is_free(&all) == ALL_FREE - WRITE;
    }
    MTASK_WITH_WRITE(&all.rwlock) {
        runs += what_is_free(&all) == ALL_FREE - READ - WRITE;
    }
    ck_assert_int_eq(runs, 6);
    ck_assert_int_eq(what_is_free(&all), ALL_FREE);
}
END_TEST

START_TEST(with_nests) {
    locks all;
    int depth = 0;
    init_locks(&all);
    MTASK_WITH(&all.mutex) {
        MTASK_WITH(&all.rmutex) {
            MTASK_WITH(&all.rmutex) {
                MTASK_WITH_READ(&all.rwlock) {
                    MTASK_WITH_READ(&all.rwlock) {
                        depth = (int)mtask_rmutex_count(&all.rmutex);
                        ck_assert_int_eq(what_is_free(&all), SHARED + SEM + READ);
                    }
                }
            }
            ck_assert_uint_eq(mtask_rmutex_count(&all.rmutex), 1);
            ck_assert_int_eq(what_is_free(&all), ALL_FREE - MUTEX - RMUTEX);
        }
        ck_assert_int_eq(what_is_free(&all), ALL_FREE - MUTEX);
    }
    ck_assert_int_eq(depth, 2);
    ck_assert_int_eq(what_is_free(&all), ALL_FREE);
}
END_TEST

START_TEST(two_guards_may_stand_in_one_line) {
    locks all;
    init_locks(&all);
    {
        /* clang-format off */
        MTASK_GUARD(&all.mutex); MTASK_GUARD(&all.sem); MTASK_GUARD_READ(&all.rwlock);
        MTASK_WITH(&all.rmutex) MTASK_WITH(&all.rmutex)
            ck_assert_int_eq(what_is_free(&all), SHARED + READ);
        /* clang-format on */
    }
    ck_assert_int_eq(what_is_free(&all), ALL_FREE);
}
END_TEST

/* ---- ways out ---- */

static int guard_and_return(locks *all, int way) {
    MTASK_GUARD(&all->mutex);
    if (way == 0)
        return mtask_mutex_is_locked(&all->mutex); /* the value is made before the lock is let go */
    MTASK_WITH(&all->rmutex) {
        MTASK_GUARD(&all->sem);
        if (way == 1)
            return (int)mtask_rmutex_count(&all->rmutex) + (mtask_sem_value(&all->sem) == 0);
    }
    return 7;
}

START_TEST(guard_lets_go_on_return) {
    locks all;
    init_locks(&all);
    ck_assert_int_eq(guard_and_return(&all, 0), 1);
    ck_assert_int_eq(what_is_free(&all), ALL_FREE);
    ck_assert_int_eq(guard_and_return(&all, 1), 2);
    ck_assert_int_eq(what_is_free(&all), ALL_FREE);
    ck_assert_int_eq(guard_and_return(&all, 2), 7);
    ck_assert_int_eq(what_is_free(&all), ALL_FREE);
}
END_TEST

START_TEST(guard_lets_go_on_break_and_continue_of_a_loop_around_it) {
    locks all;
    int turns = 0;
    init_locks(&all);
    for (int i = 0; i < 5; i++) {
        MTASK_GUARD(&all.mutex); /* would wait for ever if the last turn had kept it */
        MTASK_GUARD_WRITE(&all.rwlock);
        turns++;
        if (i == 1)
            continue;
        if (i == 3)
            break;
    }
    ck_assert_int_eq(turns, 4);
    ck_assert_int_eq(what_is_free(&all), ALL_FREE);
}
END_TEST

START_TEST(with_is_left_by_break_and_by_continue) {
    locks all;
    int turns = 0;
    init_locks(&all);
    for (int i = 0; i < 3; i++) {
        MTASK_WITH(&all.mutex) {
            turns++;
            if (i == 0)
                break; /* leaves the block, not the loop */
            if (i == 1)
                continue;
            turns += 10;
        }
        ck_assert_int_eq(what_is_free(&all), ALL_FREE);
    }
    ck_assert_int_eq(turns, 13);
}
END_TEST

START_TEST(guard_lets_go_on_goto) {
    locks all;
    int tries = 0;
    init_locks(&all);
again : {
    MTASK_GUARD(&all.mutex);
    MTASK_WITH(&all.sem) {
        if (++tries < 3)
            goto again; /* backwards */
        goto out;       /* and forwards */
    }
    tries = 100;
}
out:
    ck_assert_int_eq(tries, 3);
    ck_assert_int_eq(what_is_free(&all), ALL_FREE);
}
END_TEST

/* ---- locking that fails ---- */

START_TEST(guard_that_could_not_lock_says_so_and_unlocks_nothing) {
    mtask_rmutex rmutex = {0};
    bool entered = false;
    ck_assert_status(mtask_rmutex_lock(&rmutex), MTASK_OK);
    {
        MTASK_GUARD_AS(first, &rmutex);
        ck_assert_status(first.status, MTASK_OK);
        ck_assert_uint_eq(mtask_rmutex_count(&rmutex), 2);
        rmutex.count = UINT32_MAX; /* as if locked so often */
        {
            MTASK_GUARD_AS(second, &rmutex);
            ck_assert_status(second.status, MTASK_OVERFLOW);
        }
        { MTASK_GUARD(&rmutex); /* nobody looks at the status */ }
        MTASK_WITH(&rmutex) {
            entered = true;
        }
        ck_assert_uint_eq(mtask_rmutex_count(&rmutex), UINT32_MAX);
        rmutex.count = 2;
    }
    ck_assert(!entered);
    ck_assert_uint_eq(mtask_rmutex_count(&rmutex), 1);
}
END_TEST

START_TEST(guard_that_could_not_read_lock_unlocks_nothing) {
    mtask_rwlock rwlock = {MTASK__RW_READERS}; /* as many readers as there can be */
    bool entered = false;
    {
        MTASK_GUARD_READ(&rwlock);
        ck_assert_uint_eq(rwlock.word, MTASK__RW_READERS);
    }
    MTASK_WITH_READ(&rwlock) {
        entered = true;
    }
    ck_assert(!entered);
    ck_assert_uint_eq(rwlock.word, MTASK__RW_READERS);
}
END_TEST

static void die_with_lock(testing_member *self) {
    self->status = mtask_shared_mutex_lock((mtask_shared_mutex *)self->arg);
}

/* Makes a shared mutex whose owner, a thread, ended without unlocking it. */
static void init_orphan(mtask_shared_mutex *mutex) {
    testing_crowd crowd;
    ck_assert_status(mtask_shared_mutex_init(mutex), MTASK_OK);
    testing_crowd_start(&crowd, 1, die_with_lock, mutex);
    testing_crowd_join(&crowd);
    ck_assert_status(crowd.members[0].status, MTASK_OK);
}

START_TEST(guard_of_an_orphaned_shared_mutex_holds_it_and_says_so) {
    mtask_shared_mutex mutex;
    init_orphan(&mutex);
    {
        MTASK_GUARD_AS(guard, &mutex);
        ck_assert_status(guard.status, MTASK_OWNER_DEAD);
        ck_assert_status(mtask_shared_mutex_consistent(&mutex), MTASK_OK);
    }
    {
        MTASK_GUARD_AS(guard, &mutex);
        ck_assert_status(guard.status, MTASK_OK);
    }
    ck_assert_status(mtask_shared_mutex_deinit(&mutex), MTASK_OK);
}
END_TEST

START_TEST(with_skips_its_block_for_an_orphaned_and_for_a_broken_shared_mutex) {
    mtask_shared_mutex mutex;
    bool entered = false;
    init_orphan(&mutex);
    MTASK_WITH(&mutex) {
        entered = true;
    }
    ck_assert_status(mtask_shared_mutex_lock_for(&mutex, MTASK_NOWAIT), MTASK_BROKEN);
    MTASK_WITH(&mutex) {
        entered = true;
    }
    ck_assert(!entered);
    {
        MTASK_GUARD_AS(guard, &mutex);
        ck_assert_status(guard.status, MTASK_BROKEN);
    }
}
END_TEST

START_TEST(guard_of_a_shared_mutex_that_the_caller_holds_is_refused) {
    mtask_shared_mutex mutex;
    bool entered = false;
    ck_assert_status(mtask_shared_mutex_init(&mutex), MTASK_OK);
    ck_assert_status(mtask_shared_mutex_lock(&mutex), MTASK_OK);
    {
        MTASK_GUARD_AS(guard, &mutex);
        ck_assert_status(guard.status, MTASK_DEADLOCK);
    }
    MTASK_WITH(&mutex) {
        entered = true;
    }
    ck_assert(!entered);
    ck_assert_status(mtask_shared_mutex_unlock(&mutex), MTASK_OK); /* it was still held */
}
END_TEST

/* ---- defer ---- */

typedef struct diary {
    char text[16];
    size_t length;
    mtask_mutex *mutex;
} diary;

static diary notes;

static void note(void *letter) {
    notes.text[notes.length++] = *(const char *)letter;
    if (notes.mutex != NULL && mtask_mutex_is_locked(notes.mutex))
        notes.text[notes.length++] = '!';
}

static int defer_three(bool leave_early) {
    static char letters[] = "abc";
    MTASK_DEFER(note, &letters[0]);
    MTASK_DEFER(note, &letters[1]);
    if (leave_early)
        return 1;
    MTASK_DEFER(note, &letters[2]);
    return 2;
}

START_TEST(defer_runs_last_first_what_was_reached) {
    memset(&notes, 0, sizeof notes);
    ck_assert_int_eq(defer_three(false), 2);
    ck_assert_str_eq(notes.text, "cba");
    ck_assert_int_eq(defer_three(true), 1);
    ck_assert_str_eq(notes.text, "cbaba");
}
END_TEST

START_TEST(defer_and_guards_end_in_turn) {
    static char letters[] = "xy";
    mtask_mutex mutex = {0};
    memset(&notes, 0, sizeof notes);
    notes.mutex = &mutex;
    {
        MTASK_DEFER(note, &letters[0]); /* after the unlock */
        MTASK_GUARD(&mutex);
        MTASK_DEFER(note, &letters[1]); /* before it */
        ck_assert_str_eq(notes.text, "");
    }
    ck_assert_str_eq(notes.text, "y!x");
}
END_TEST

/* ---- many threads ---- */

typedef struct tally {
    locks locks;
    long counts[5];
    long rounds;
} tally;

static void count_guarded(testing_member *self) {
    tally *all = (tally *)self->arg;
    for (long i = 0; i < all->rounds; i++) {
        MTASK_WITH(&all->locks.mutex) {
            all->counts[0]++;
        }
        MTASK_WITH(&all->locks.rmutex) {
            all->counts[1]++;
        }
        MTASK_WITH(&all->locks.sem) {
            all->counts[2]++;
        }
        MTASK_WITH_WRITE(&all->locks.rwlock) {
            all->counts[3]++;
        }
        MTASK_GUARD_READ(&all->locks.rwlock);
        MTASK_GUARD(&all->locks.shared);
        all->counts[4]++;
    }
}

START_TEST(guards_exclude) {
    tally all = {.rounds = testing_scale(5000)};
    testing_crowd crowd;
    init_locks(&all.locks);
    testing_crowd_start(&crowd, 4, count_guarded, &all);
    testing_crowd_join(&crowd);
    for (int i = 0; i < 5; i++)
        ck_assert_int_eq(all.counts[i], 4 * all.rounds);
}
END_TEST

TESTING_MAIN("guard", guard_holds_each_kind_of_lock_to_the_end_of_the_block,
             with_holds_each_kind_of_lock_during_its_block, with_nests,
             two_guards_may_stand_in_one_line, guard_lets_go_on_return,
             guard_lets_go_on_break_and_continue_of_a_loop_around_it,
             with_is_left_by_break_and_by_continue, guard_lets_go_on_goto,
             guard_that_could_not_lock_says_so_and_unlocks_nothing,
             guard_that_could_not_read_lock_unlocks_nothing,
             guard_of_an_orphaned_shared_mutex_holds_it_and_says_so,
             with_skips_its_block_for_an_orphaned_and_for_a_broken_shared_mutex,
             guard_of_a_shared_mutex_that_the_caller_holds_is_refused,
             defer_runs_last_first_what_was_reached, defer_and_guards_end_in_turn, guards_exclude)
