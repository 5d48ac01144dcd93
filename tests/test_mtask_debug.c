/* test_mtask_debug.c - names, owners and the dead-lock detector of MTASK_DEBUG builds

   In other builds: that the detector says that it is not there. */
#include "testing_threads.h"

#if MTASK_DEBUG

# include <sys/wait.h>

/* What the hook was told last, and how often. */
typedef struct findings {
    int calls; /* atomic */
    size_t count;
    bool refused;
    uint64_t task; /* in which the hook was called */
    mtask_deadlock_edge edges[4];
    char text[1024];
} findings;

static void take_findings(const mtask_deadlock *report, void *ctx) {
    findings *found = (findings *)ctx;
    found->count = report->count;
    found->refused = report->refused;
    found->task = mtask_task_id();
    for (size_t i = 0; i < report->count && i < 4; i++)
        found->edges[i] = report->edges[i];
    snprintf(found->text, sizeof found->text, "%s", report->text);
    __atomic_fetch_add(&found->calls, 1, __ATOMIC_RELEASE);
}

static int calls(const findings *found) {
    return __atomic_load_n(&found->calls, __ATOMIC_ACQUIRE);
}

typedef enum lock_kind { PLAIN, CHECKED, RECURSIVE } lock_kind;

static const char *const names[] = {"lock 0", "lock 1", "lock 2", "lock 3"};

/* Locks, one for each thread of a circle; each holds its own and then wants the next one's. */
typedef struct circle {
    lock_kind kind;
    int count; /* threads in it */
    mtask_mutex mutexes[4];
    mtask_rmutex rmutexes[4];
    mtask_waitgroup holding;
    mtask_event go;
    mtask_event go_last;
    findings found;
} circle;

static mtask_status take(circle *all, int i) {
    return all->kind == RECURSIVE ? mtask_rmutex_lock(&all->rmutexes[i])
                                  : mtask_mutex_lock(&all->mutexes[i]);
}

static mtask_status give(circle *all, int i) {
    return all->kind == RECURSIVE ? mtask_rmutex_unlock(&all->rmutexes[i])
                                  : mtask_mutex_unlock(&all->mutexes[i]);
}

static void prepare(circle *all, lock_kind kind, int count) {
    int flags = kind == CHECKED ? MTASK_CHECKED : MTASK_PRIVATE;
    memset(all, 0, sizeof *all);
    all->kind = kind;
    all->count = count;
    for (int i = 0; i < 4; i++) {
        const void *lock =
            kind == RECURSIVE ? (const void *)&all->rmutexes[i] : (const void *)&all->mutexes[i];
        ck_assert_status(mtask_mutex_init(&all->mutexes[i], flags), MTASK_OK);
        ck_assert_status(mtask_debug_name(lock, names[i]), MTASK_OK);
    }
    ck_assert_status(mtask_debug_on_deadlock(take_findings, &all->found), MTASK_OK);
}

static void name_thread(int index) {
    char name[MTASK_NAME_SIZE];
    snprintf(name, sizeof name, "philosopher %d", index);
    ck_assert_status(mtask_thread_set_name(NULL, name), MTASK_OK);
}

static void stand_in_circle(testing_member *self) {
    circle *all = (circle *)self->arg;
    bool last = self->index == all->count - 1;
    name_thread(self->index);
    ck_assert_status(take(all, self->index), MTASK_OK);
    ck_assert_status(mtask_waitgroup_done(&all->holding), MTASK_OK);
    ck_assert_status(mtask_event_wait(last ? &all->go_last : &all->go, MTASK_FOREVER), MTASK_OK);
    self->status = take(all, (self->index + 1) % all->count);
    if (self->status == MTASK_OK)
        (void)give(all, (self->index + 1) % all->count);
    (void)give(all, self->index); /* a plain one may have been unlocked by the test */
}

/* Starts `threads` of the circle; returns when each holds its lock, and sleeps for the next. */
static void let_them_wait(circle *all, testing_crowd *crowd, int threads) {
    ck_assert_status(mtask_waitgroup_add(&all->holding, threads), MTASK_OK);
    testing_crowd_start(crowd, threads, stand_in_circle, all);
    ck_assert_status(mtask_waitgroup_wait(&all->holding, MTASK_FOREVER), MTASK_OK);
    mtask_event_set(&all->go);
    testing_crowd_await_asleep(crowd, threads);
    ck_assert_int_eq(calls(&all->found), 0); /* no circle yet */
}

/* The report tells of the whole circle, beginning with the thread `first`, which closed it. */
static void check_report(const circle *all, int first, bool refused) {
    const findings *found = &all->found;
    ck_assert_int_eq(calls(found), 1);
    ck_assert_int_eq(found->refused, refused);
    ck_assert_uint_eq(found->count, (size_t)all->count);
    ck_assert_uint_eq(found->edges[0].task, found->task);
    for (int i = 0; i < all->count; i++) {
        char thread[MTASK_NAME_SIZE];
        int index = (first + i) % all->count;
        snprintf(thread, sizeof thread, "philosopher %d", index);
        ck_assert_str_eq(found->edges[i].thread, thread);
        ck_assert_str_eq(found->edges[i].waits_for, names[(index + 1) % all->count]);
        ck_assert_str_eq(found->edges[i].file, __FILE__);
        ck_assert_str_eq(found->edges[i].held_file, __FILE__);
        ck_assert_ptr_nonnull(strstr(found->text, thread));
        ck_assert_ptr_nonnull(strstr(found->text, names[index]));
    }
}

/* The main thread is the last of the circle, and closes it. */
static void close_circle(lock_kind kind, int count) {
    circle all;
    testing_crowd crowd;
    prepare(&all, kind, count);
    name_thread(count - 1);
    ck_assert_status(take(&all, count - 1), MTASK_OK);
    let_them_wait(&all, &crowd, count - 1);
    ck_assert_status(take(&all, 0), MTASK_DEADLOCK);
    check_report(&all, count - 1, true);
    ck_assert_uint_eq(all.found.task, mtask_task_id());
    ck_assert_int_eq(testing_crowd_finished(&crowd), 0); /* the others go on waiting */
    ck_assert_status(give(&all, count - 1), MTASK_OK);
    testing_crowd_join(&crowd);
    ck_assert_int_eq(testing_crowd_count(&crowd, MTASK_OK), count - 1);
    ck_assert_status(take(&all, 0), MTASK_OK); /* the refusal left nothing behind */
    ck_assert_status(give(&all, 0), MTASK_OK);
    ck_assert_int_eq(calls(&all.found), 1);
}

START_TEST(circle_of_rmutexes_is_refused) {
    close_circle(RECURSIVE, 2);
    close_circle(RECURSIVE, 3);
    close_circle(RECURSIVE, 4);
}
END_TEST

START_TEST(circle_of_checked_mutexes_is_refused) {
    close_circle(CHECKED, 2);
    close_circle(CHECKED, 3);
}
END_TEST

START_TEST(circle_of_plain_mutexes_is_reported_and_waits) {
    for (int count = 2; count <= 4; count++) {
        circle all;
        testing_crowd crowd;
        prepare(&all, PLAIN, count);
        let_them_wait(&all, &crowd, count);
        mtask_event_set(&all.go_last);
        while (calls(&all.found) == 0)
            testing_pause(1);
        testing_crowd_await_asleep(&crowd, count);
        check_report(&all, count - 1, false);
        ck_assert_status(give(&all, 0), MTASK_OK); /* any thread may: so it was no dead-lock */
        testing_crowd_join(&crowd);
        ck_assert_int_eq(testing_crowd_count(&crowd, MTASK_OK), count);
    }
}
END_TEST

/* ---- one lock ---- */

START_TEST(checked_mutex_locked_twice_is_refused) {
    circle all;
    prepare(&all, CHECKED, 1);
    name_thread(0);
    ck_assert_status(take(&all, 0), MTASK_OK);
    ck_assert_status(take(&all, 0), MTASK_DEADLOCK);
    check_report(&all, 0, true);
    ck_assert_status(mtask_mutex_lock_for(&all.mutexes[0], MTASK_NOWAIT), MTASK_TIMEOUT);
    ck_assert_status(give(&all, 0), MTASK_OK);
    ck_assert_status(give(&all, 0), MTASK_INVALID);
}
END_TEST

static void lock_twice(testing_member *self) {
    circle *all = (circle *)self->arg;
    name_thread(0);
    ck_assert_status(take(all, 0), MTASK_OK);
    self->status = take(all, 0);
}

START_TEST(plain_mutex_locked_twice_is_reported_and_waits) {
    circle all;
    testing_crowd crowd;
    prepare(&all, PLAIN, 1);
    testing_crowd_start(&crowd, 1, lock_twice, &all);
    while (calls(&all.found) == 0)
        testing_pause(1);
    testing_crowd_await_asleep(&crowd, 1);
    check_report(&all, 0, false);
    ck_assert_status(give(&all, 0), MTASK_OK);
    testing_crowd_join(&crowd);
    ck_assert_status(crowd.members[0].status, MTASK_OK);
    ck_assert_status(give(&all, 0), MTASK_OK);
}
END_TEST

static void unlock_of_another(testing_member *self) {
    circle *all = (circle *)self->arg;
    static mtask_cond cond;
    if (all->kind == CHECKED)
        ck_assert_status(mtask_cond_wait(&cond, &all->mutexes[0], MTASK_FOREVER), MTASK_NOT_OWNER);
    self->status = give(all, 0);
}

START_TEST(checked_mutex_is_unlocked_by_its_owner_only) {
    circle all;
    testing_crowd crowd;
    prepare(&all, CHECKED, 1);
    ck_assert_status(give(&all, 0), MTASK_INVALID);
    ck_assert_status(take(&all, 0), MTASK_OK);
    testing_crowd_start(&crowd, 1, unlock_of_another, &all);
    testing_crowd_join(&crowd);
    ck_assert_status(crowd.members[0].status, MTASK_NOT_OWNER);
    ck_assert(mtask_mutex_is_locked(&all.mutexes[0]));
    ck_assert_status(give(&all, 0), MTASK_OK);
    prepare(&all, PLAIN, 1);
    ck_assert_status(take(&all, 0), MTASK_OK);
    testing_crowd_start(&crowd, 1, unlock_of_another, &all);
    testing_crowd_join(&crowd);
    ck_assert_status(crowd.members[0].status, MTASK_OK);
}
END_TEST

/* A wait lets go of the mutex, and has it again afterwards: in the detector's eyes, too. */
static void wait_then_unlock(testing_member *self) {
    circle *all = (circle *)self->arg;
    static mtask_cond cond; /* nobody notifies it */
    ck_assert_status(take(all, 0), MTASK_OK);
    ck_assert_status(mtask_waitgroup_done(&all->holding), MTASK_OK);
    self->status = all->kind == RECURSIVE
                       ? mtask_cond_wait_rmutex(&cond, &all->rmutexes[0], MTASK_MS(30))
                       : mtask_cond_wait(&cond, &all->mutexes[0], MTASK_MS(30));
    ck_assert_status(give(all, 0), MTASK_OK);
}

static void share_with_a_waiter(lock_kind kind) {
    circle all;
    testing_crowd crowd;
    prepare(&all, kind, 1);
    ck_assert_status(mtask_waitgroup_add(&all.holding, 1), MTASK_OK);
    testing_crowd_start(&crowd, 1, wait_then_unlock, &all);
    ck_assert_status(mtask_waitgroup_wait(&all.holding, MTASK_FOREVER), MTASK_OK);
    ck_assert_status(take(&all, 0), MTASK_OK); /* while it waits */
    ck_assert_status(give(&all, 0), MTASK_OK);
    testing_crowd_join(&crowd);
    ck_assert_status(crowd.members[0].status, MTASK_TIMEOUT);
    ck_assert_int_eq(calls(&all.found), 0);
}

START_TEST(condition_wait_lets_go_and_takes_back) {
    share_with_a_waiter(PLAIN);
    share_with_a_waiter(CHECKED);
    share_with_a_waiter(RECURSIVE);
}
END_TEST

/* ---- names, places ---- */

START_TEST(report_names_the_lines) {
    circle all;
    int locked_at, waits_at;
    char place[64];
    prepare(&all, CHECKED, 1);
    name_thread(0);
    locked_at = __LINE__ + 1;
    ck_assert_status(mtask_mutex_lock(&all.mutexes[0]), MTASK_OK);
    waits_at = __LINE__ + 1;
    ck_assert_status(mtask_mutex_lock(&all.mutexes[0]), MTASK_DEADLOCK);
    check_report(&all, 0, true);
    ck_assert_int_eq(all.found.edges[0].line, waits_at);
    ck_assert_int_eq(all.found.edges[0].held_line, locked_at);
    snprintf(place, sizeof place, "%s:%d", __FILE__, waits_at);
    ck_assert_ptr_nonnull(strstr(all.found.text, place));
    snprintf(place, sizeof place, "%s:%d", __FILE__, locked_at);
    ck_assert_ptr_nonnull(strstr(all.found.text, place));
}
END_TEST

START_TEST(report_of_a_guard_names_its_line) {
    circle all;
    int waits_at;
    prepare(&all, CHECKED, 1);
    name_thread(0);
    ck_assert_status(take(&all, 0), MTASK_OK);
    {
        waits_at = __LINE__ + 1;
        MTASK_GUARD_AS(guard, &all.mutexes[0]);
        ck_assert_status(guard.status, MTASK_DEADLOCK);
    }
    ck_assert_int_eq(all.found.edges[0].line, waits_at);
    ck_assert(mtask_mutex_is_locked(&all.mutexes[0])); /* the guard unlocked nothing */
    ck_assert_status(give(&all, 0), MTASK_OK);
}
END_TEST

START_TEST(report_names_a_nameless_lock_by_its_address) {
    findings found = {.calls = 0};
    mtask_mutex mutex;
    char address[32];
    ck_assert_status(mtask_debug_on_deadlock(take_findings, &found), MTASK_OK);
    ck_assert_status(mtask_mutex_init(&mutex, MTASK_CHECKED), MTASK_OK);
    ck_assert_status(mtask_mutex_lock(&mutex), MTASK_OK);
    ck_assert_status(mtask_mutex_lock(&mutex), MTASK_DEADLOCK);
    snprintf(address, sizeof address, "%p", (void *)&mutex);
    ck_assert_ptr_nonnull(strstr(found.edges[0].waits_for, address));
    ck_assert_status(mtask_debug_name(&mutex, "a name that is longer than a name may be"),
                     MTASK_OK);
    ck_assert_status(mtask_mutex_lock(&mutex), MTASK_DEADLOCK);
    ck_assert_str_eq(found.edges[0].waits_for, "a name that is longer than a na");
    ck_assert_status(mtask_debug_name(&mutex, "short"), MTASK_OK); /* named anew while held */
    ck_assert_status(mtask_mutex_lock(&mutex), MTASK_DEADLOCK);
    ck_assert_str_eq(found.edges[0].waits_for, "short");
    ck_assert_status(mtask_mutex_unlock(&mutex), MTASK_OK);
}
END_TEST

START_TEST(refusal_needs_no_hook) {
    circle all;
    prepare(&all, CHECKED, 1);
    ck_assert_status(mtask_debug_on_deadlock(NULL, NULL), MTASK_OK);
    ck_assert_status(take(&all, 0), MTASK_OK);
    ck_assert_status(take(&all, 0), MTASK_DEADLOCK);
    ck_assert_int_eq(calls(&all.found), 0);
    ck_assert_status(give(&all, 0), MTASK_OK);
}
END_TEST

/* ---- joins ---- */

/* Two threads, each of which may join the other, and a lock. */
typedef struct couple {
    mtask_thread threads[2];
    mtask_rmutex rmutex;
    mtask_event started;
    int tid; /* the system's number of the first; 0 until it runs */
    mtask_status statuses[2];
    findings found;
} couple;

static void prepare_couple(couple *all) {
    memset(all, 0, sizeof *all);
    ck_assert_status(mtask_debug_on_deadlock(take_findings, &all->found), MTASK_OK);
    ck_assert_status(mtask_debug_name(&all->rmutex, "the lock"), MTASK_OK);
}

static void start_named(mtask_thread *thread, mtask_fn fn, void *arg, const char *name) {
    mtask_thread_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.fn = fn;
    desc.arg = arg;
    desc.name = name;
    ck_assert_status(mtask_thread_start_ex(thread, &desc), MTASK_OK);
}

/* Returns when the first thread sleeps. */
static void await_first_asleep(couple *all) {
    int tid;
    while ((tid = __atomic_load_n(&all->tid, __ATOMIC_ACQUIRE)) == 0 ||
           !testing_is_asleep(getpid(), tid))
        testing_pause(1);
}

static void *join_the_second(void *arg) {
    couple *all = (couple *)arg;
    ck_assert_status(mtask_event_wait(&all->started, MTASK_FOREVER), MTASK_OK);
    __atomic_store_n(&all->tid, (int)syscall(SYS_gettid), __ATOMIC_RELEASE);
    all->statuses[0] = mtask_thread_join(&all->threads[1], NULL, MTASK_FOREVER);
    return NULL;
}

static void *join_the_first(void *arg) {
    couple *all = (couple *)arg;
    await_first_asleep(all);
    all->statuses[1] = mtask_thread_join(&all->threads[0], NULL, MTASK_FOREVER);
    return NULL;
}

START_TEST(threads_that_join_each_other_are_refused) {
    couple all;
    prepare_couple(&all);
    start_named(&all.threads[0], join_the_second, &all, "one");
    start_named(&all.threads[1], join_the_first, &all, "other");
    mtask_event_set(&all.started);
    ck_assert_status(mtask_thread_join(&all.threads[0], NULL, MTASK_FOREVER), MTASK_OK);
    ck_assert_status(mtask_thread_join(&all.threads[1], NULL, MTASK_FOREVER), MTASK_OK);
    ck_assert_status(all.statuses[0], MTASK_OK);
    ck_assert_status(all.statuses[1], MTASK_DEADLOCK);
    ck_assert_int_eq(calls(&all.found), 1);
    ck_assert(all.found.refused);
    ck_assert_uint_eq(all.found.count, 2);
    ck_assert_str_eq(all.found.edges[0].thread, "other");
    ck_assert_str_eq(all.found.edges[0].waits_for, "thread one");
    ck_assert_str_eq(all.found.edges[1].waits_for, "thread other");
    ck_assert_ptr_null(all.found.edges[0].held_file);
}
END_TEST

static void *want_rmutex(void *arg) {
    couple *all = (couple *)arg;
    __atomic_store_n(&all->tid, (int)syscall(SYS_gettid), __ATOMIC_RELEASE);
    all->statuses[0] = mtask_rmutex_lock(&all->rmutex);
    if (all->statuses[0] == MTASK_OK)
        ck_assert_status(mtask_rmutex_unlock(&all->rmutex), MTASK_OK);
    return NULL;
}

START_TEST(join_of_a_thread_that_waits_for_the_joiners_lock_is_refused) {
    couple all;
    prepare_couple(&all);
    ck_assert_status(mtask_rmutex_lock(&all.rmutex), MTASK_OK);
    start_named(&all.threads[0], want_rmutex, &all, "one");
    await_first_asleep(&all);
    ck_assert_status(mtask_thread_join(&all.threads[0], NULL, MTASK_MS(5)), MTASK_TIMEOUT);
    ck_assert_int_eq(calls(&all.found), 0); /* that one would have ended by itself */
    ck_assert_status(mtask_thread_join(&all.threads[0], NULL, MTASK_FOREVER), MTASK_DEADLOCK);
    ck_assert_uint_eq(all.found.count, 2);
    ck_assert_str_eq(all.found.edges[0].waits_for, "thread one");
    ck_assert_str_eq(all.found.edges[1].waits_for, "the lock");
    ck_assert_str_eq(all.found.edges[1].held_file, __FILE__);
    ck_assert_status(mtask_rmutex_unlock(&all.rmutex), MTASK_OK);
    ck_assert_status(mtask_thread_join(&all.threads[0], NULL, MTASK_FOREVER), MTASK_OK);
    ck_assert_status(all.statuses[0], MTASK_OK);
}
END_TEST

static void *lock_under_the_joiner(void *arg) {
    couple *all = (couple *)arg;
    ck_assert_status(mtask_event_wait(&all->started, MTASK_FOREVER), MTASK_OK);
    await_first_asleep(all);
    all->statuses[1] = mtask_rmutex_lock(&all->rmutex);
    return NULL;
}

static void *hold_rmutex_and_join(void *arg) {
    couple *all = (couple *)arg;
    ck_assert_status(mtask_rmutex_lock(&all->rmutex), MTASK_OK);
    mtask_event_set(&all->started);
    __atomic_store_n(&all->tid, (int)syscall(SYS_gettid), __ATOMIC_RELEASE);
    all->statuses[0] = mtask_thread_join(&all->threads[1], NULL, MTASK_FOREVER);
    ck_assert_status(mtask_rmutex_unlock(&all->rmutex), MTASK_OK);
    return NULL;
}

START_TEST(lock_that_is_held_by_the_callers_joiner_is_refused) {
    couple all;
    prepare_couple(&all);
    start_named(&all.threads[1], lock_under_the_joiner, &all, "other");
    start_named(&all.threads[0], hold_rmutex_and_join, &all, "one");
    ck_assert_status(mtask_thread_join(&all.threads[0], NULL, MTASK_FOREVER), MTASK_OK);
    ck_assert_status(mtask_thread_join(&all.threads[1], NULL, MTASK_FOREVER), MTASK_OK);
    ck_assert_status(all.statuses[0], MTASK_OK);
    ck_assert_status(all.statuses[1], MTASK_DEADLOCK);
    ck_assert_str_eq(all.found.edges[0].waits_for, "the lock");
    ck_assert_str_eq(all.found.edges[1].waits_for, "thread other");
}
END_TEST

/* ---- no false alarm ---- */

static void hold_and_try(testing_member *self) {
    circle *all = (circle *)self->arg;
    ck_assert_status(take(all, 0), MTASK_OK);
    ck_assert_status(mtask_waitgroup_done(&all->holding), MTASK_OK);
    ck_assert_status(mtask_event_wait(&all->go, MTASK_FOREVER), MTASK_OK);
    self->status = all->kind == RECURSIVE ? mtask_rmutex_lock_for(&all->rmutexes[1], MTASK_MS(30))
                                          : mtask_mutex_lock_for(&all->mutexes[1], MTASK_MS(30));
    ck_assert_status(give(all, 0), MTASK_OK);
}

/* One waits with a time-out, the other without: that ends well. */
static void wait_for_one_in_a_hurry(lock_kind kind) {
    circle all;
    testing_crowd crowd;
    prepare(&all, kind, 2);
    ck_assert_status(take(&all, 1), MTASK_OK);
    ck_assert_status(mtask_waitgroup_add(&all.holding, 1), MTASK_OK);
    testing_crowd_start(&crowd, 1, hold_and_try, &all);
    ck_assert_status(mtask_waitgroup_wait(&all.holding, MTASK_FOREVER), MTASK_OK);
    mtask_event_set(&all.go);
    ck_assert_status(take(&all, 0), MTASK_OK);
    ck_assert_status(give(&all, 0), MTASK_OK);
    ck_assert_status(give(&all, 1), MTASK_OK);
    testing_crowd_join(&crowd);
    ck_assert_status(crowd.members[0].status, MTASK_TIMEOUT);
    ck_assert_int_eq(calls(&all.found), 0);
}

START_TEST(wait_with_a_timeout_closes_no_circle) {
    wait_for_one_in_a_hurry(PLAIN);
    wait_for_one_in_a_hurry(CHECKED);
    wait_for_one_in_a_hurry(RECURSIVE);
}
END_TEST

/* Threads that take several locks in their order, or out of order without waiting for ever. */
typedef struct order {
    mtask_mutex plain;
    mtask_mutex checked;
    mtask_rmutex rmutex;
    mtask_mutex waited;
    mtask_cond cond;
    long held[3]; /* each guarded by one of the locks */
    long rounds;
    uint64_t seed;
    int64_t start;
    findings found;
} order;

static void take_in_order(order *all, uint64_t which) {
    if ((which & 1) != 0)
        ck_assert_status(mtask_mutex_lock(&all->plain), MTASK_OK);
    if ((which & 2) != 0)
        ck_assert_status(mtask_mutex_lock(&all->checked), MTASK_OK);
    if ((which & 4) != 0) {
        ck_assert_status(mtask_rmutex_lock(&all->rmutex), MTASK_OK);
        ck_assert_status(mtask_rmutex_lock(&all->rmutex), MTASK_OK);
        ck_assert_status(mtask_rmutex_unlock(&all->rmutex), MTASK_OK);
    }
}

static void give_back(order *all, uint64_t which) {
    for (int i = 0; i < 3; i++)
        all->held[i] += (which & (UINT64_C(1) << i)) != 0;
    if ((which & 1) != 0)
        ck_assert_status(mtask_mutex_unlock(&all->plain), MTASK_OK);
    if ((which & 2) != 0)
        ck_assert_status(mtask_mutex_unlock(&all->checked), MTASK_OK);
    if ((which & 4) != 0)
        ck_assert_status(mtask_rmutex_unlock(&all->rmutex), MTASK_OK);
}

static void behave_well(testing_member *self) {
    order *all = (order *)self->arg;
    testing_random random = testing_random_make(all->seed, (unsigned)self->index);
    for (long i = 0; i < all->rounds && testing_has_time(all->start); i++) {
        uint64_t which = testing_below(&random, 8);
        int64_t timeout = (int64_t)testing_below(&random, MTASK_US(20));
        if (testing_below(&random, 4) == 0 && /* against the order, in a hurry */
            mtask_rmutex_lock(&all->rmutex) == MTASK_OK) {
            if (mtask_mutex_lock_for(&all->plain, timeout) == MTASK_OK)
                give_back(all, 1);
            give_back(all, 4);
        }
        take_in_order(all, which);
        if (testing_below(&random, 8) == 0)
            sched_yield();
        give_back(all, which);
        MTASK_WITH(&all->waited) {
            ck_assert_status(mtask_cond_notify(&all->cond, 1), MTASK_OK);
            (void)mtask_cond_wait(&all->cond, &all->waited, timeout);
        }
    }
}

START_TEST(threads_that_keep_an_order_are_never_reported) {
    order all = {.rounds = testing_scale(5000), .seed = testing_seed()};
    testing_crowd crowd;
    ck_assert_status(mtask_mutex_init(&all.checked, MTASK_CHECKED), MTASK_OK);
    ck_assert_status(mtask_debug_on_deadlock(take_findings, &all.found), MTASK_OK);
    all.start = mtask_now();
    testing_crowd_start(&crowd, 4, behave_well, &all);
    testing_crowd_join(&crowd);
    ck_assert_msg(calls(&all.found) == 0, "false report: %s", all.found.text);
    ck_assert_int_gt(all.held[0] + all.held[1] + all.held[2], 0);
}
END_TEST

/* ---- fork ---- */

static bool use_inherited(circle *all) {
    return take(all, 0) == MTASK_DEADLOCK && give(all, 0) == MTASK_OK &&
           give(all, 0) == MTASK_INVALID && take(all, 0) == MTASK_OK && give(all, 0) == MTASK_OK;
}

START_TEST(checked_mutex_held_by_the_forking_thread_is_held_in_the_child) {
    circle all;
    int status = 0;
    pid_t pid;
    prepare(&all, CHECKED, 1);
    ck_assert_status(take(&all, 0), MTASK_OK);
    pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0)
        _exit(use_inherited(&all) ? 0 : 1);
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_int_eq(status, 0);
    ck_assert_status(give(&all, 0), MTASK_OK);
}
END_TEST

TESTING_MAIN("debug", circle_of_rmutexes_is_refused, circle_of_checked_mutexes_is_refused,
             circle_of_plain_mutexes_is_reported_and_waits, checked_mutex_locked_twice_is_refused,
             plain_mutex_locked_twice_is_reported_and_waits,
             checked_mutex_is_unlocked_by_its_owner_only, condition_wait_lets_go_and_takes_back,
             report_names_the_lines, report_of_a_guard_names_its_line,
             report_names_a_nameless_lock_by_its_address, refusal_needs_no_hook,
             threads_that_join_each_other_are_refused,
             join_of_a_thread_that_waits_for_the_joiners_lock_is_refused,
             lock_that_is_held_by_the_callers_joiner_is_refused,
             wait_with_a_timeout_closes_no_circle, threads_that_keep_an_order_are_never_reported,
             checked_mutex_held_by_the_forking_thread_is_held_in_the_child)

#else /* without the detector */

static void take_findings(const mtask_deadlock *report, void *ctx) {
    (void)report;
    ++*(int *)ctx;
}

START_TEST(detector_says_that_it_is_not_there) {
    mtask_mutex mutex = {0};
    int calls = 0;
    ck_assert_status(mtask_debug_on_deadlock(take_findings, &calls), MTASK_UNSUPPORTED);
    ck_assert_status(mtask_debug_on_deadlock(NULL, NULL), MTASK_UNSUPPORTED);
    ck_assert_status(mtask_debug_name(&mutex, "a name"), MTASK_OK);
    ck_assert_int_eq(calls, 0);
}
END_TEST

static void unlock_elsewhere(testing_member *self) {
    self->status = mtask_mutex_unlock((mtask_mutex *)self->arg);
}

START_TEST(checked_mutex_checks_nothing_without_the_detector) {
    mtask_mutex mutex;
    testing_crowd crowd;
    ck_assert_status(mtask_mutex_init(&mutex, MTASK_CHECKED), MTASK_OK);
    ck_assert_status(mtask_mutex_lock(&mutex), MTASK_OK);
    ck_assert_status(mtask_mutex_lock_for(&mutex, MTASK_MS(1)), MTASK_TIMEOUT);
    testing_crowd_start(&crowd, 1, unlock_elsewhere, &mutex);
    testing_crowd_join(&crowd);
    ck_assert_status(crowd.members[0].status, MTASK_OK);
    ck_assert_status(mtask_mutex_unlock(&mutex), MTASK_INVALID);
}
END_TEST

TESTING_MAIN("debug", detector_says_that_it_is_not_there,
             checked_mutex_checks_nothing_without_the_detector)

#endif
