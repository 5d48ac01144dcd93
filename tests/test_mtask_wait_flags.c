/* test_mtask_wait_flags.c - two actors, stopped between any two steps of mtask

   Whether a wake-up is lost depends on what happens between two atomic accesses. Here each of them,
   and each call to the system, is a step before which an actor can be stopped: then the other one
   runs until it ends or sleeps, and only then the first goes on. Each play is run with a stop at
   every step of either actor, and with many pairs of stops in both. The actors are threads, or
   tasks parked through the hook. A play that hangs has lost a wake-up. The objects of most plays
   lie in memory that the waiting actor gives back as soon as its wait is over, so whoever touches
   them after that crashes. */
#ifndef _GNU_SOURCE
# define _GNU_SOURCE 1
#endif
#include <pthread.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

static void step(void);
static int give_way(void);

/* clang-format off */
#define mtask__load(p, order)        (step(), __atomic_load_n((p), __ATOMIC_##order))
#define mtask__store(p, v, order)    (step(), __atomic_store_n((p), (v), __ATOMIC_##order))
#define mtask__exchange(p, v, order) (step(), __atomic_exchange_n((p), (v), __ATOMIC_##order))
#define mtask__add(p, v, order)      (step(), __atomic_fetch_add((p), (v), __ATOMIC_##order))
#define mtask__sub(p, v, order)      (step(), __atomic_fetch_sub((p), (v), __ATOMIC_##order))
#define mtask__or(p, v, order)       (step(), __atomic_fetch_or((p), (v), __ATOMIC_##order))
#define mtask__and(p, v, order)      (step(), __atomic_fetch_and((p), (v), __ATOMIC_##order))
#define mtask__cas(p, old, v, order)                                                               \
 (step(), __atomic_compare_exchange_n((p), (old), (v), false, __ATOMIC_##order, __ATOMIC_RELAXED))
#define syscall(...)                 (step(), syscall(__VA_ARGS__))
#define sched_yield()                give_way()
#define pthread_mutex_lock(m)        (step(), pthread_mutex_lock(m))
#define pthread_mutex_unlock(m)      (step(), pthread_mutex_unlock(m))
#define pthread_cond_signal(c)       (step(), pthread_cond_signal(c))
#define pthread_cond_wait(c, m)      (step(), pthread_cond_wait((c), (m)))
#define pthread_cond_timedwait(c, m, t) (step(), pthread_cond_timedwait((c), (m), (t)))
/* clang-format on */
#define MTASK_SPIN 0
#define MTASK_IMPLEMENTATION
#include "../mtask.h"
#undef syscall
#undef sched_yield
#undef pthread_mutex_lock
#undef pthread_mutex_unlock
#undef pthread_cond_signal
#undef pthread_cond_wait
#undef pthread_cond_timedwait

#include "testing_threads.h"

#include <sys/mman.h>

/* ---- the stage ---- */

enum { A, B };

#define MOMENT MTASK_US(300)

/* What a play is about. It lies in pages of its own. */
typedef struct props {
    mtask_word word;
    mtask_mutex mutex;
    mtask_rmutex rmutex;
    mtask_cond cond;
    mtask_sem sem;
    mtask_event event;
    mtask_barrier barrier;
    mtask_rwlock rwlock;
    mtask_once_flag once;
    mtask_waitgroup group;
    mtask_future *futures[2];
    bool flag;
    uint32_t inside;       /* how many are where only one may be */
    uint32_t count;        /* for the play */
    mtask_status ended[2]; /* how an actor's part ended */
} props;

typedef struct actor {
    mtask__parker parker; /* first: the table knows only this */
    mtask__task task;
    pthread_mutex_t lock;
    pthread_cond_t cond;
    bool posted; /* guarded by the lock */
    bool parks;  /* it is a task of its own, not just the thread */
    int index;
    long steps;
    long stop; /* before this step it lets the other one run; 0: never */
    int tid;
    bool done;
    pthread_t thread;
    struct stage *stage;
} actor;

typedef struct stage_play {
    const char *name;
    void (*begin)(props *self); /* NULL: everything is zero */
    void (*act[2])(props *self);
    void (*check)(props *self); /* NULL: that it ended is enough */
    bool frees;                 /* A gives the memory back at its end */
    bool timed;                 /* A waits for a MOMENT only */
} stage_play;

typedef struct stage {
    const stage_play *play;
    props *props;
    int turn;
    actor actors[2];
} stage;

static __thread actor *acting;
static const stage *shown; /* what a hang is blamed on */

static mtask_status actor_park(mtask__parker *parker, mtask__waiter *waiter, int64_t deadline) {
    actor *self = (actor *)parker;
    struct timespec until = {(time_t)(deadline / MTASK_SEC(1)), (long)(deadline % MTASK_SEC(1))};
    int error = 0;
    pthread_mutex_lock(&self->lock);
    while (!self->posted && error == 0)
        error = pthread_cond_timedwait(&self->cond, &self->lock, &until);
    pthread_mutex_unlock(&self->lock);
    if (error != 0 && mtask__unpark(waiter))
        return MTASK_TIMEOUT;
    pthread_mutex_lock(&self->lock);
    while (!self->posted)
        pthread_cond_wait(&self->cond, &self->lock);
    self->posted = false;
    pthread_mutex_unlock(&self->lock);
    return MTASK_OK;
}

static void actor_post(mtask__parker *parker, mtask__waiter *waiter) {
    actor *self = (actor *)parker;
    step(); /* the waiter is out of the table, but does not know it yet */
    testing_check(waiter->parker == parker && !self->posted);
    pthread_mutex_lock(&self->lock);
    self->posted = true;
    pthread_cond_signal(&self->cond);
    pthread_mutex_unlock(&self->lock);
}

/* Whether it sleeps, and will not get up by itself. */
static bool actor_is_asleep(const actor *self) {
    struct timespec pause = {0, self->stage->play->timed ? 3 * MOMENT : 50000};
    long slept = testing_slept(getpid(), self->tid);
    if (slept < 0)
        return false;
    (void)nanosleep(&pause, NULL);
    return testing_slept(getpid(), self->tid) == slept;
}

static bool actor_is_done(const actor *self) {
    return __atomic_load_n(&self->done, __ATOMIC_ACQUIRE);
}

/* Lets the other actor run until it has ended, sleeps, or gives the turn back. */
static void actor_await_turn(actor *self) {
    stage *on = self->stage;
    const actor *other = &on->actors[!self->index];
    for (long poll = 1; __atomic_load_n(&on->turn, __ATOMIC_SEQ_CST) != self->index; poll++) {
        if (actor_is_done(other) || (poll % 20 == 0 && actor_is_asleep(other)))
            return;
        sched_yield();
    }
}

static void step(void) {
    actor *self = acting;
    int saved = errno;
    if (self == NULL || ++self->steps != self->stop)
        return;
    __atomic_store_n(&self->stage->turn, !self->index, __ATOMIC_SEQ_CST);
    actor_await_turn(self);
    errno = saved;
}

/* It waits for the other one, who was stopped in the midst of something short: that one goes on. */
static int give_way(void) {
    if (acting != NULL)
        __atomic_store_n(&acting->stage->turn, !acting->index, __ATOMIC_SEQ_CST);
    return sched_yield();
}

static void *actor_main(void *arg) {
    actor *self = (actor *)arg;
    stage *on = self->stage;
    (void)mtask_task_id(); /* lets mtask know the thread, before any step */
    mtask__task_init(&self->task, &self->parker);
    if (self->parks)
        (void)mtask__task_switch(&self->task);
    __atomic_store_n(&self->tid, (int)syscall(SYS_gettid), __ATOMIC_RELEASE);
    while (__atomic_load_n(&on->actors[!self->index].tid, __ATOMIC_ACQUIRE) == 0)
        sched_yield();
    actor_await_turn(self);
    acting = self;
    on->play->act[self->index](on->props);
    acting = NULL;
    (void)mtask__task_switch(NULL);
    if (self->index == A && on->play->frees)
        testing_check(munmap(on->props, sizeof *on->props) == 0);
    __atomic_store_n(&self->done, true, __ATOMIC_RELEASE);
    return NULL;
}

/* Says where it hung, and ends the test. */
static void on_alarm(int number) {
    const stage *on = shown;
    (void)number;
    dprintf(2, "hangs: %s, %s (step %ld, stopped at %ld), %s (step %ld, stopped at %ld)\n",
            on->play->name, on->actors[A].parks ? "task" : "thread", on->actors[A].steps,
            on->actors[A].stop, on->actors[B].parks ? "task" : "thread", on->actors[B].steps,
            on->actors[B].stop);
    abort();
}

static void stage_prepare(stage *self, const stage_play *play, int parks) {
    pthread_condattr_t attr;
    memset(self, 0, sizeof *self);
    self->play = play;
    self->props = (props *)mmap(NULL, sizeof *self->props, PROT_READ | PROT_WRITE,
                                MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    testing_check(self->props != MAP_FAILED);
    if (play->begin != NULL)
        play->begin(self->props);
    testing_check(pthread_condattr_init(&attr) == 0);
    testing_check(pthread_condattr_setclock(&attr, CLOCK_MONOTONIC) == 0);
    for (int i = 0; i < 2; i++) {
        actor *actor_ = &self->actors[i];
        actor_->parker.park = actor_park;
        actor_->parker.post = actor_post;
        actor_->parks = (parks >> i & 1) != 0;
        actor_->index = i;
        actor_->stage = self;
        testing_check(pthread_mutex_init(&actor_->lock, NULL) == 0);
        testing_check(pthread_cond_init(&actor_->cond, &attr) == 0);
    }
    (void)pthread_condattr_destroy(&attr);
}

static void stage_clear(stage *self) {
    for (int i = 0; i < 2; i++) {
        testing_check(pthread_cond_destroy(&self->actors[i].cond) == 0);
        testing_check(pthread_mutex_destroy(&self->actors[i].lock) == 0);
        testing_check(!self->actors[i].posted);
    }
    if (self->play->frees)
        return;
    if (self->play->check != NULL)
        self->play->check(self->props);
    testing_check(munmap(self->props, sizeof *self->props) == 0);
}

/* Plays it once, `first` beginning; the actors stop at these steps. `steps` receives how many each
   took. */
static void stage_run(const stage_play *play, int parks, int first, const long stops[2],
                      long steps[2]) {
    stage self;
    stage_prepare(&self, play, parks);
    shown = &self;
    alarm(TESTING_TSAN || TESTING_ASAN ? 60 : 15);
    self.turn = first;
    for (int i = 0; i < 2; i++) {
        self.actors[i].stop = stops[i];
        testing_check(pthread_create(&self.actors[i].thread, NULL, actor_main, &self.actors[i]) ==
                      0);
    }
    for (int i = 0; i < 2; i++) {
        testing_check(pthread_join(self.actors[i].thread, NULL) == 0);
        steps[i] = self.actors[i].steps;
    }
    alarm(0);
    stage_clear(&self);
}

/* Stops one actor once, at each of its steps. Returns how many it took at most; it may take more if
   it is stopped later. */
static long stop_everywhere(const stage_play *play, int parks, int first, int who, long *runs) {
    long steps[2];
    long stops[2] = {0, 0};
    long most = 1;
    for (stops[who] = 1; stops[who] <= most + 2; stops[who]++, ++*runs) {
        stage_run(play, parks, first, stops, steps);
        most = steps[who] > most ? steps[who] : most;
    }
    return most;
}

/* Stops both, anywhere. */
static void stop_both(const stage_play *play, int parks, const long most[2], testing_random *random,
                      long *runs) {
    for (long i = testing_scale(64); i > 0; i--, ++*runs) {
        int first = (int)testing_below(random, 2);
        long stops[2], steps[2];
        stops[A] = 1 + (long)testing_below(random, (uint64_t)most[A]);
        stops[B] = 1 + (long)testing_below(random, (uint64_t)most[B]);
        stage_run(play, parks, first, stops, steps);
    }
}

static void perform(const stage_play *play) {
    testing_random random = testing_random_make(testing_seed(), 0);
    long runs = 0;
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_alarm;
    testing_check(sigaction(SIGALRM, &action, NULL) == 0);
    (void)mtask_task_id();
    for (int parks = 0; parks < 4; parks++) {
        long most[2];
        for (int who = A; who <= B; who++) {
            long other = stop_everywhere(play, parks, !who, who, &runs);
            most[who] = stop_everywhere(play, parks, who, who, &runs);
            most[who] = other > most[who] ? other : most[who];
        }
        stop_both(play, parks, most, &random, &runs);
    }
    fprintf(stderr, "%s: %ld runs\n", play->name, runs);
}

/* ---- words ---- */

static void await_word(props *self) {
    while (mtask_word_load(&self->word) == 0)
        ck_assert_status(mtask_word_wait(&self->word, 0, MTASK_FOREVER, 0), MTASK_OK);
}

static void set_word(props *self) {
    mtask_word *word = &self->word;
    mtask_word_store(word, 1);
    (void)mtask_word_wake(word, 1, 0);
}

START_TEST(a_word_that_changes_wakes_its_waiter) {
    const stage_play play = {"word", NULL, {await_word, set_word}, NULL, true, false};
    perform(&play);
}
END_TEST

static void wait_for_a_moment(props *self) {
    self->ended[A] = mtask_word_wait(&self->word, 0, MOMENT, 0);
}

static void wake_one(props *self) {
    self->count = (uint32_t)mtask_word_wake(&self->word, 1, 0);
}

/* The word never changes, so the wait ends in time only if it was woken. */
static void check_woken(props *self) {
    ck_assert_status(self->ended[A], self->count == 1 ? MTASK_OK : MTASK_TIMEOUT);
    ck_assert_uint_le(self->count, 1);
}

START_TEST(who_was_woken_knows_and_who_timed_out_was_not_woken) {
    const stage_play play = {"wake", NULL, {wait_for_a_moment, wake_one}, check_woken, false, true};
    perform(&play);
}
END_TEST

/* ---- mutexes ---- */

static void hold_mutex(props *self) {
    ck_assert_status(mtask_mutex_lock(&self->mutex), MTASK_OK);
}

static void unlock_mutex(props *self) {
    ck_assert_status(mtask_mutex_unlock(&self->mutex), MTASK_OK);
}

static void use_mutex(props *self) {
    hold_mutex(self);
    testing_check(self->inside++ == 0);
    step();
    self->inside--;
    unlock_mutex(self);
}

static void try_mutex_for_a_moment(props *self) {
    mtask_status status = mtask_mutex_lock_for(&self->mutex, MOMENT);
    testing_check(status == MTASK_OK || status == MTASK_TIMEOUT);
    if (status == MTASK_OK)
        unlock_mutex(self);
}

static void check_mutex(props *self) {
    ck_assert(!mtask_mutex_is_locked(&self->mutex));
    ck_assert_status(mtask_mutex_lock_for(&self->mutex, MTASK_NOWAIT), MTASK_OK);
}

START_TEST(a_mutex_goes_to_its_waiter_who_may_free_it) {
    const stage_play play = {"mutex, freed", hold_mutex, {use_mutex, unlock_mutex},
                             NULL,           true,       false};
    perform(&play);
}
END_TEST

START_TEST(a_mutex_lets_in_one_after_the_other) {
    const stage_play play = {"mutex", NULL, {use_mutex, use_mutex}, check_mutex, false, false};
    perform(&play);
}
END_TEST

START_TEST(a_mutex_survives_a_waiter_that_gives_up) {
    const stage_play play = {"mutex, timed", hold_mutex, {try_mutex_for_a_moment, unlock_mutex},
                             check_mutex,    false,      true};
    perform(&play);
}
END_TEST

static void use_rmutex(props *self) {
    ck_assert_status(mtask_rmutex_lock(&self->rmutex), MTASK_OK);
    ck_assert_status(mtask_rmutex_lock(&self->rmutex), MTASK_OK);
    testing_check(self->inside++ == 0);
    ck_assert_status(mtask_rmutex_unlock(&self->rmutex), MTASK_OK);
    step();
    self->inside--;
    ck_assert_status(mtask_rmutex_unlock(&self->rmutex), MTASK_OK);
}

START_TEST(a_rmutex_lets_in_one_after_the_other) {
    const stage_play play = {"rmutex", NULL, {use_rmutex, use_rmutex}, NULL, false, false};
    perform(&play);
}
END_TEST

/* ---- conditions ---- */

static void await_flag(props *self) {
    hold_mutex(self);
    while (!self->flag)
        ck_assert_status(mtask_cond_wait(&self->cond, &self->mutex, MTASK_FOREVER), MTASK_OK);
    unlock_mutex(self);
}

static void notify_locked(props *self) {
    mtask_mutex *mutex = &self->mutex;
    hold_mutex(self);
    self->flag = true;
    ck_assert_status(mtask_cond_notify(&self->cond, 1), MTASK_OK);
    ck_assert_status(mtask_mutex_unlock(mutex), MTASK_OK);
}

static void notify_unlocked(props *self) {
    hold_mutex(self);
    self->flag = true;
    unlock_mutex(self);
    ck_assert_status(mtask_cond_notify(&self->cond, 1), MTASK_OK);
}

START_TEST(a_notified_waiter_may_free_the_condition) {
    const stage_play play = {"cond, freed", NULL, {await_flag, notify_locked}, NULL, true, false};
    perform(&play);
}
END_TEST

START_TEST(a_notify_without_the_mutex_is_not_lost) {
    const stage_play play = {"cond", NULL, {await_flag, notify_unlocked}, NULL, false, false};
    perform(&play);
}
END_TEST

static void await_notify_for_a_moment(props *self) {
    hold_mutex(self);
    self->ended[A] = mtask_cond_wait(&self->cond, &self->mutex, MOMENT);
    testing_check(self->ended[A] == MTASK_OK || self->ended[A] == MTASK_TIMEOUT);
    unlock_mutex(self);
}

static void check_cond(props *self) {
    check_mutex(self);
    ck_assert_ptr_null(self->cond.waiters);
}

START_TEST(a_condition_survives_a_waiter_that_gives_up) {
    const stage_play play = {"cond, timed", NULL,  {await_notify_for_a_moment, notify_locked},
                             check_cond,    false, true};
    perform(&play);
}
END_TEST

/* ---- semaphore, event, wait group, once, barrier ---- */

static void acquire(props *self) {
    ck_assert_status(mtask_sem_acquire(&self->sem, MTASK_FOREVER), MTASK_OK);
}

static void release(props *self) {
    ck_assert_status(mtask_sem_release(&self->sem, 1), MTASK_OK);
}

static void acquire_for_a_moment(props *self) {
    self->ended[A] = mtask_sem_acquire(&self->sem, MOMENT);
}

static void check_sem(props *self) {
    testing_check(self->ended[A] == MTASK_OK || self->ended[A] == MTASK_TIMEOUT);
    ck_assert_uint_eq(mtask_sem_value(&self->sem) + (self->ended[A] == MTASK_OK), 1);
}

START_TEST(a_semaphore_goes_to_its_waiter_who_may_free_it) {
    const stage_play play = {"semaphore", NULL, {acquire, release}, NULL, true, false};
    perform(&play);
}
END_TEST

START_TEST(a_semaphore_loses_no_unit_to_a_waiter_that_gives_up) {
    const stage_play play = {"semaphore, timed", NULL,  {acquire_for_a_moment, release},
                             check_sem,          false, true};
    perform(&play);
}
END_TEST

static void await_event(props *self) {
    ck_assert_status(mtask_event_wait(&self->event, MTASK_FOREVER), MTASK_OK);
}

static void set_event(props *self) {
    mtask_event_set(&self->event);
}

START_TEST(an_event_releases_its_waiter_who_may_free_it) {
    const stage_play play = {"event", NULL, {await_event, set_event}, NULL, true, false};
    perform(&play);
}
END_TEST

static void hold_group(props *self) {
    ck_assert_status(mtask_waitgroup_add(&self->group, 1), MTASK_OK);
}

static void await_group(props *self) {
    ck_assert_status(mtask_waitgroup_wait(&self->group, MTASK_FOREVER), MTASK_OK);
}

static void group_done(props *self) {
    ck_assert_status(mtask_waitgroup_done(&self->group), MTASK_OK);
}

START_TEST(a_wait_group_releases_its_waiter_who_may_free_it) {
    const stage_play play = {"waitgroup", hold_group, {await_group, group_done}, NULL, true, false};
    perform(&play);
}
END_TEST

static void *count_once(void *arg) {
    props *self = (props *)arg;
    step();
    self->count++;
    return NULL;
}

static void ask_once(props *self) {
    ck_assert_status(mtask_once(&self->once, count_once, self), MTASK_OK);
    testing_check(self->count == 1);
}

START_TEST(once_runs_once_and_nobody_goes_on_before) {
    const stage_play play = {"once", NULL, {ask_once, ask_once}, NULL, false, false};
    perform(&play);
}
END_TEST

static void make_barrier(props *self) {
    ck_assert_status(mtask_barrier_init(&self->barrier, 2, NULL, NULL, 0), MTASK_OK);
}

static void meet_twice(props *self) {
    for (int i = 0; i < 2; i++) {
        uint32_t index = 2;
        ck_assert_status(mtask_barrier_wait(&self->barrier, &index, MTASK_FOREVER), MTASK_OK);
        testing_check(index < 2);
        (void)mtask_word_add(&self->word, index);
    }
}

static void check_barrier(props *self) {
    ck_assert_uint_eq(self->word, 2);
    ck_assert_uint_eq(mtask_barrier_waiting(&self->barrier), 0);
    ck_assert(!mtask_barrier_is_broken(&self->barrier));
}

START_TEST(a_barrier_lets_its_parties_meet_again_and_again) {
    const stage_play play = {"barrier",     make_barrier, {meet_twice, meet_twice},
                             check_barrier, false,        false};
    perform(&play);
}
END_TEST

/* Either both meet, or the one that gives up breaks it for both. */
static void meet_for_a_moment(props *self) {
    self->ended[A] = mtask_barrier_wait(&self->barrier, NULL, MOMENT);
}

static void meet(props *self) {
    self->ended[B] = mtask_barrier_wait(&self->barrier, NULL, MTASK_FOREVER);
}

static void check_broken(props *self) {
    bool met = self->ended[A] == MTASK_OK;
    ck_assert_status(self->ended[A], met ? MTASK_OK : MTASK_TIMEOUT);
    ck_assert_status(self->ended[B], met ? MTASK_OK : MTASK_BROKEN);
    ck_assert_int_eq(mtask_barrier_is_broken(&self->barrier), !met);
}

START_TEST(a_barrier_is_met_by_both_or_broken_for_both) {
    const stage_play play = {"barrier, timed", make_barrier, {meet_for_a_moment, meet},
                             check_broken,     false,        true};
    perform(&play);
}
END_TEST

/* ---- rwlock ---- */

static void hold_write(props *self) {
    ck_assert_status(mtask_rwlock_lock_write(&self->rwlock), MTASK_OK);
}

static void unlock_write(props *self) {
    ck_assert_status(mtask_rwlock_unlock_write(&self->rwlock), MTASK_OK);
}

static void hold_read(props *self) {
    ck_assert_status(mtask_rwlock_lock_read(&self->rwlock), MTASK_OK);
}

static void unlock_read(props *self) {
    ck_assert_status(mtask_rwlock_unlock_read(&self->rwlock), MTASK_OK);
}

static void read_once(props *self) {
    hold_read(self);
    testing_check(self->inside == 0);
    unlock_read(self);
}

static void write_once(props *self) {
    hold_write(self);
    testing_check(self->inside++ == 0);
    step();
    self->inside--;
    unlock_write(self);
}

static void write_for_a_moment(props *self) {
    mtask_status status = mtask_rwlock_lock_write_for(&self->rwlock, MOMENT);
    testing_check(status == MTASK_OK || status == MTASK_TIMEOUT);
    if (status == MTASK_OK)
        unlock_write(self);
}

static void read_twice(props *self) {
    read_once(self);
    read_once(self);
}

static void unread_and_read(props *self) {
    unlock_read(self);
    read_once(self);
}

static void check_rwlock(props *self) {
    ck_assert_status(mtask_rwlock_lock_write_for(&self->rwlock, MTASK_NOWAIT), MTASK_OK);
}

START_TEST(a_rwlock_goes_to_its_reader_who_may_free_it) {
    const stage_play play = {"rwlock, read", hold_write, {read_once, unlock_write},
                             NULL,           true,       false};
    perform(&play);
}
END_TEST

START_TEST(a_rwlock_goes_to_its_writer_who_may_free_it) {
    const stage_play play = {
        "rwlock, write", hold_read, {write_once, unlock_read}, NULL, true, false};
    perform(&play);
}
END_TEST

START_TEST(a_rwlock_keeps_readers_and_writers_apart) {
    const stage_play both = {"rwlock", NULL, {write_once, read_twice}, check_rwlock, false, false};
    const stage_play writers = {"rwlock, writers", NULL,  {write_once, write_once},
                                check_rwlock,      false, false};
    perform(&both);
    perform(&writers);
}
END_TEST

START_TEST(a_writer_that_gives_up_keeps_nobody_out) {
    const stage_play play = {"rwlock, timed", hold_read, {write_for_a_moment, unread_and_read},
                             check_rwlock,    false,     true};
    perform(&play);
}
END_TEST

/* ---- futures ---- */

static void make_futures(props *self) {
    for (int i = 0; i < 2; i++)
        ck_assert_status(mtask_future_create(&self->futures[i], NULL), MTASK_OK);
    (void)mtask_future_retain(self->futures[0]);
    (void)mtask_future_retain(self->futures[1]);
}

static void drop_futures(props *self) {
    mtask_future_release(self->futures[0]);
    mtask_future_release(self->futures[1]);
}

static void get_future(props *self) {
    mtask_outcome outcome;
    ck_assert_status(mtask_future_get(self->futures[0], &outcome, MTASK_FOREVER), MTASK_OK);
    testing_check(outcome.value == self);
    drop_futures(self);
}

static void await_any(props *self) {
    ck_assert_status(mtask_futures_wait(self->futures, 2, MTASK_WAIT_ANY, MTASK_FOREVER), MTASK_OK);
    testing_check(mtask_future_done(self->futures[0]) || mtask_future_done(self->futures[1]));
    drop_futures(self);
}

static void await_all(props *self) {
    ck_assert_status(mtask_futures_wait(self->futures, 2, MTASK_WAIT_ALL, MTASK_FOREVER), MTASK_OK);
    testing_check(mtask_future_done(self->futures[0]) && mtask_future_done(self->futures[1]));
    drop_futures(self);
}

static void await_any_for_a_moment(props *self) {
    mtask_status status = mtask_futures_wait(self->futures, 2, MTASK_WAIT_ANY, MOMENT);
    testing_check(status == MTASK_OK || status == MTASK_TIMEOUT);
    drop_futures(self);
}

static void set_futures(props *self) {
    mtask_future *futures[2] = {self->futures[0], self->futures[1]};
    for (int i = 0; i < 2; i++) {
        ck_assert_status(mtask_future_set(futures[i], self), MTASK_OK);
        mtask_future_release(futures[i]);
    }
}

START_TEST(a_future_reaches_who_waits_for_it) {
    const stage_play play = {"future", make_futures, {get_future, set_futures}, NULL, false, false};
    perform(&play);
}
END_TEST

START_TEST(a_listener_hears_of_any_and_of_all) {
    const stage_play any = {"any", make_futures, {await_any, set_futures}, NULL, false, false};
    const stage_play all = {"all", make_futures, {await_all, set_futures}, NULL, false, false};
    const stage_play timed = {"any, timed", make_futures, {await_any_for_a_moment, set_futures},
                              NULL,         false,        true};
    perform(&any);
    perform(&all);
    perform(&timed);
}
END_TEST

static void count_call(mtask_future *future, void *ctx) {
    (void)future;
    (void)mtask_word_add(&((props *)ctx)->word, 1);
}

static void call_back(props *self) {
    ck_assert_status(mtask_future_then(self->futures[0], count_call, self), MTASK_OK);
    drop_futures(self);
}

static void check_called_once(props *self) {
    ck_assert_uint_eq(self->word, 1);
}

START_TEST(a_callback_is_called_once) {
    const stage_play play = {"then", make_futures, {call_back, set_futures}, check_called_once,
                             false,  false};
    perform(&play);
}
END_TEST

static void begin_future(props *self) {
    self->ended[A] = mtask_future_begin(self->futures[0]);
    drop_futures(self);
}

static void cancel_future(props *self) {
    self->ended[B] = mtask_future_cancel(self->futures[0]);
    drop_futures(self);
}

static void check_one_won(props *self) {
    bool began = self->ended[A] == MTASK_OK;
    ck_assert_status(self->ended[A], began ? MTASK_OK : MTASK_CANCELED);
    ck_assert_status(self->ended[B], began ? MTASK_INVALID : MTASK_OK);
}

START_TEST(a_future_is_begun_or_canceled_but_not_both) {
    const stage_play play = {"cancel",      make_futures, {begin_future, cancel_future},
                             check_one_won, false,        false};
    perform(&play);
}
END_TEST

TESTING_MAIN(
    "mtask_wait_flags", a_word_that_changes_wakes_its_waiter,
    who_was_woken_knows_and_who_timed_out_was_not_woken, a_mutex_goes_to_its_waiter_who_may_free_it,
    a_mutex_lets_in_one_after_the_other, a_mutex_survives_a_waiter_that_gives_up,
    a_rmutex_lets_in_one_after_the_other, a_notified_waiter_may_free_the_condition,
    a_notify_without_the_mutex_is_not_lost, a_condition_survives_a_waiter_that_gives_up,
    a_semaphore_goes_to_its_waiter_who_may_free_it,
    a_semaphore_loses_no_unit_to_a_waiter_that_gives_up,
    an_event_releases_its_waiter_who_may_free_it, a_wait_group_releases_its_waiter_who_may_free_it,
    once_runs_once_and_nobody_goes_on_before, a_barrier_lets_its_parties_meet_again_and_again,
    a_barrier_is_met_by_both_or_broken_for_both, a_rwlock_goes_to_its_reader_who_may_free_it,
    a_rwlock_goes_to_its_writer_who_may_free_it, a_rwlock_keeps_readers_and_writers_apart,
    a_writer_that_gives_up_keeps_nobody_out, a_future_reaches_who_waits_for_it,
    a_listener_hears_of_any_and_of_all, a_callback_is_called_once,
    a_future_is_begun_or_canceled_but_not_both)
