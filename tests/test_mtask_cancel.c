/* test_mtask_cancel.c - cancellation that stays, shields against it, and limits of time: whatever
   waits, in mtask.h, mtask_queue.h and mtask_pool.h, is told; and no wake-up is lost by it */
#include "testing_coro.h"

#include "../mtask_pool.h"

/* For the timed forms of locks: without a timeout they are no cancellation points. */
#define LONG MTASK_SEC(100000)

#define COUNT_OF(array) ((long)(sizeof(array) / sizeof(array)[0]))

static void await_status(mtask_future *future, mtask_status expected) {
    ck_assert_status(mtask_future_get(future, NULL, MTASK_FOREVER), expected);
    mtask_future_release(future);
}

static void cancel(mtask_future *future) {
    ck_assert_status(mtask_future_cancel(future), MTASK_OK);
}

/* Returns when the word is set, whatever the caller's loop does meanwhile. */
static void await_word(const mtask_word *word) {
    while (mtask_word_load(word) == 0)
        testing_pause(1);
}

/* Cancels the calling task. `self` is its future. */
static void cancel_self(mtask_future **self) {
    cancel(*self);
    ck_assert(mtask_canceled());
}

/* ---- everything that waits, in a state in which no wait ends by itself ---- */

typedef struct scene {
    mtask_mutex mutex;
    mtask_mutex free_mutex;
    mtask_rmutex rmutex; /* the thread's */
    mtask_rmutex held_rmutex;
    mtask_rmutex free_rmutex;
    mtask_shared_mutex shared;
    mtask_cond cond;
    mtask_sem sem;
    mtask_event event;
    mtask_rwlock rwlock;
    mtask_rwlock read_lock;
    mtask_waitgroup waitgroup;
    mtask_word word;
    mtask_once_flag once;
    mtask_future *future;
    mtask_queue empty;
    mtask_queue full;
    mtask_pool *pool;   /* its worker waits at the gate, its backlog is full */
    mtask_pool *closed; /* the same, and it is closed */
    mtask_group group;
    mtask_imap *imap;
    mtask_completed *completed;
    mtask_timer timer; /* its function waits at the gate */
    mtask_thread thread;
    mtask_event gate;
    mtask_word waiting; /* the thread has come to the gate */
    mtask_word timer_waiting;
    mtask_word pulling;
    long ticks; /* turns of the ticker */
    bool over;  /* it is to end */
} scene;

static scene stage;

static void *wait_at_gate(void *arg) {
    ck_assert_status(mtask_event_wait(&stage.gate, MTASK_FOREVER), MTASK_OK);
    return arg;
}

static void *hold_and_wait(void *arg) {
    ck_assert_status(mtask_shared_mutex_init(&stage.shared), MTASK_OK);
    ck_assert_status(mtask_shared_mutex_lock(&stage.shared), MTASK_OK);
    ck_assert_status(mtask_rmutex_lock(&stage.rmutex), MTASK_OK);
    mtask_word_store(&stage.waiting, 1);
    (void)wait_at_gate(arg);
    ck_assert_status(mtask_rmutex_unlock(&stage.rmutex), MTASK_OK);
    ck_assert_status(mtask_shared_mutex_unlock(&stage.shared), MTASK_OK);
    return arg;
}

static void *run_once_and_wait(void *arg) {
    mtask_word_store(&stage.timer_waiting, 1);
    return wait_at_gate(arg);
}

static void *run_timer(void *arg) {
    ck_assert_status(mtask_once(&stage.once, run_once_and_wait, arg), MTASK_OK);
    return arg;
}

static mtask_status pull_at_gate(void *in, void *ctx) {
    mtask_word_store(&stage.pulling, 1);
    (void)wait_at_gate(in);
    (void)ctx;
    return MTASK_DONE;
}

static void leave_item(const void *in, void *out, void *ctx) {
    (void)in;
    (void)out;
    (void)ctx;
}

static void open_queue(mtask_queue *queue) {
    mtask_queue_desc desc = {.capacity = 1, .item_size = sizeof(long)};
    ck_assert_status(mtask_queue_init(queue, &desc), MTASK_OK);
}

static mtask_pool *open_busy_pool(void) {
    mtask_pool_desc desc = {.workers = 1, .spare = 1, .backlog = 2};
    mtask_pool *pool = NULL;
    ck_assert_status(mtask_pool_create(&pool, &desc), MTASK_OK);
    return pool;
}

static void open_pools(void) {
    mtask_imap_desc desc = {.fn = leave_item, .input = pull_at_gate, .in_size = 8, .out_size = 8};
    mtask_pool *other = open_busy_pool();
    stage.pool = open_busy_pool();
    stage.closed = other;
    ck_assert_status(mtask_pool_post(other, wait_at_gate, NULL), MTASK_OK);
    ck_assert_status(mtask_group_init(&stage.group, other, 0), MTASK_OK);
    ck_assert_status(mtask_group_post(&stage.group, wait_at_gate, NULL), MTASK_OK);
    ck_assert_status(mtask_pool_close(other), MTASK_OK);
    ck_assert_status(mtask_pool_imap(stage.pool, &desc, &stage.imap), MTASK_OK);
    await_word(&stage.pulling);
    for (mtask_status status = MTASK_OK; status != MTASK_FULL;) {
        mtask_task_desc task = {.fn = wait_at_gate};
        status = mtask_pool_submit_ex(stage.pool, &task, NULL, MTASK_MS(2));
        testing_check(status == MTASK_OK || status == MTASK_FULL);
    }
}

/* Sets the stage, in a task, which holds the locks. */
static void open_scene(void) {
    long item = 1;
    memset(&stage, 0, sizeof stage);
    ck_assert_status(mtask_mutex_lock(&stage.mutex), MTASK_OK);
    ck_assert_status(mtask_rmutex_lock(&stage.held_rmutex), MTASK_OK);
    ck_assert_status(mtask_rwlock_lock_write(&stage.rwlock), MTASK_OK);
    ck_assert_status(mtask_rwlock_lock_read(&stage.read_lock), MTASK_OK);
    ck_assert_status(mtask_waitgroup_add(&stage.waitgroup, 1), MTASK_OK);
    ck_assert_status(mtask_future_create(&stage.future, NULL), MTASK_OK);
    ck_assert_status(mtask_as_completed(&stage.future, 1, &stage.completed), MTASK_OK);
    open_queue(&stage.empty);
    open_queue(&stage.full);
    ck_assert_status(mtask_queue_put(&stage.full, &item, MTASK_NOWAIT), MTASK_OK);
    open_pools();
    ck_assert_status(mtask_timer_start(&stage.timer, 0, run_timer, NULL), MTASK_OK);
    ck_assert_status(mtask_thread_start(&stage.thread, hold_and_wait, NULL), MTASK_OK);
    await_word(&stage.waiting);
    await_word(&stage.timer_waiting);
}

static void close_scene(void) {
    mtask_event_set(&stage.gate);
    ck_assert_status(mtask_thread_join(&stage.thread, NULL, MTASK_FOREVER), MTASK_OK);
    ck_assert_status(mtask_timer_cancel(&stage.timer, MTASK_FOREVER), MTASK_DONE);
    mtask_completed_close(stage.completed);
    mtask_imap_close(stage.imap);
    ck_assert_status(mtask_group_wait(&stage.group, NULL, MTASK_FOREVER), MTASK_OK);
    ck_assert_status(mtask_pool_destroy(stage.pool), MTASK_OK);
    ck_assert_status(mtask_pool_destroy(stage.closed), MTASK_OK);
    ck_assert_status(mtask_queue_deinit(&stage.empty), MTASK_OK);
    ck_assert_status(mtask_queue_deinit(&stage.full), MTASK_OK);
    mtask_future_release(stage.future);
    ck_assert_status(mtask_shared_mutex_deinit(&stage.shared), MTASK_OK);
}

static mtask_status wait_sleep(int64_t timeout) {
    return mtask_sleep(timeout);
}

static mtask_status wait_word(int64_t timeout) {
    return mtask_word_wait(&stage.word, 0, timeout, 0);
}

static mtask_status wait_mutex(int64_t timeout) {
    return mtask_mutex_lock_for(&stage.mutex, timeout);
}

static mtask_status wait_rmutex(int64_t timeout) {
    return mtask_rmutex_lock_for(&stage.rmutex, timeout);
}

static mtask_status wait_shared(int64_t timeout) {
    return mtask_shared_mutex_lock_for(&stage.shared, timeout);
}

static mtask_status wait_cond(int64_t timeout) {
    mtask_status status;
    ck_assert_status(mtask_mutex_lock(&stage.free_mutex), MTASK_OK);
    status = mtask_cond_wait(&stage.cond, &stage.free_mutex, timeout);
    ck_assert_status(mtask_mutex_unlock(&stage.free_mutex), MTASK_OK);
    return status;
}

static mtask_status wait_cond_rmutex(int64_t timeout) {
    mtask_status status;
    ck_assert_status(mtask_rmutex_lock(&stage.free_rmutex), MTASK_OK);
    ck_assert_status(mtask_rmutex_lock(&stage.free_rmutex), MTASK_OK);
    status = mtask_cond_wait_rmutex(&stage.cond, &stage.free_rmutex, timeout);
    ck_assert_uint_eq(mtask_rmutex_count(&stage.free_rmutex), 2);
    ck_assert_status(mtask_rmutex_unlock(&stage.free_rmutex), MTASK_OK);
    ck_assert_status(mtask_rmutex_unlock(&stage.free_rmutex), MTASK_OK);
    return status;
}

static mtask_status wait_sem(int64_t timeout) {
    return mtask_sem_acquire(&stage.sem, timeout);
}

static mtask_status wait_event(int64_t timeout) {
    return mtask_event_wait(&stage.event, timeout);
}

static mtask_status wait_barrier(int64_t timeout) {
    mtask_barrier barrier;
    mtask_status status;
    ck_assert_status(mtask_barrier_init(&barrier, 2, NULL, NULL, 0), MTASK_OK);
    status = mtask_barrier_wait(&barrier, NULL, timeout);
    ck_assert(mtask_barrier_is_broken(&barrier));
    return status;
}

static mtask_status wait_read(int64_t timeout) {
    return mtask_rwlock_lock_read_for(&stage.rwlock, timeout);
}

static mtask_status wait_write(int64_t timeout) {
    return mtask_rwlock_lock_write_for(&stage.rwlock, timeout);
}

static mtask_status wait_waitgroup(int64_t timeout) {
    return mtask_waitgroup_wait(&stage.waitgroup, timeout);
}

static mtask_status wait_get(int64_t timeout) {
    return mtask_future_get(stage.future, NULL, timeout);
}

static mtask_status wait_future(int64_t timeout) {
    return mtask_future_wait(stage.future, timeout);
}

static mtask_status wait_any(int64_t timeout) {
    return mtask_futures_wait(&stage.future, 1, MTASK_WAIT_ANY, timeout);
}

static mtask_status wait_join(int64_t timeout) {
    return mtask_thread_join(&stage.thread, NULL, timeout);
}

static mtask_status wait_join_all(int64_t timeout) {
    return mtask_thread_join_all(timeout);
}

static mtask_status wait_timer(int64_t timeout) {
    return mtask_timer_cancel(&stage.timer, timeout);
}

static mtask_status wait_queue_put(int64_t timeout) {
    long item = 2;
    return mtask_queue_put(&stage.full, &item, timeout);
}

static mtask_status wait_queue_get(int64_t timeout) {
    long item;
    return mtask_queue_get(&stage.empty, &item, timeout);
}

static mtask_status wait_put_many(int64_t timeout) {
    long items[2] = {3, 4};
    size_t moved = 9;
    mtask_status status = mtask_queue_put_many(&stage.full, items, 2, &moved, timeout);
    ck_assert_uint_eq(moved, 0);
    return status;
}

static mtask_status wait_get_many(int64_t timeout) {
    long items[2];
    size_t moved = 9;
    mtask_status status = mtask_queue_get_many(&stage.empty, items, 2, &moved, timeout);
    ck_assert_uint_eq(moved, 0);
    return status;
}

static mtask_status wait_queue_join(int64_t timeout) {
    return mtask_queue_join(&stage.full, timeout);
}

static mtask_status wait_select(int64_t timeout) {
    long items[2] = {5, 6};
    mtask_queue_case cases[2] = {{.queue = &stage.empty, .op = MTASK_GET, .item = &items[0]},
                                 {.queue = &stage.full, .op = MTASK_PUT, .item = &items[1]}};
    size_t fired = 0;
    mtask_status status = mtask_queue_select(cases, 2, &fired, timeout);
    testing_check(status != MTASK_OK);
    return status;
}

static mtask_status wait_submit(int64_t timeout) {
    mtask_task_desc desc = {.fn = wait_at_gate};
    return mtask_pool_submit_ex(stage.pool, &desc, NULL, timeout);
}

static mtask_status wait_pool_join(int64_t timeout) {
    return mtask_pool_join(stage.closed, timeout);
}

static mtask_status wait_group(int64_t timeout) {
    mtask_status status = mtask_group_wait(&stage.group, NULL, timeout);
    ck_assert_uint_eq(mtask_group_pending(&stage.group), 1);
    return status;
}

static mtask_status wait_imap(int64_t timeout) {
    mtask_item item;
    return mtask_imap_next(stage.imap, &item, timeout);
}

static mtask_status wait_completed(int64_t timeout) {
    mtask_future *future;
    return mtask_completed_next(stage.completed, &future, NULL, timeout);
}

/* One way to wait, and what it answers when its own time is up. */
typedef struct wait_kind {
    const char *name;
    mtask_status (*wait)(int64_t timeout);
    mtask_status expired;
} wait_kind;

static const wait_kind kinds[] = {
    {"sleep", wait_sleep, MTASK_OK},
    {"word", wait_word, MTASK_TIMEOUT},
    {"mutex", wait_mutex, MTASK_TIMEOUT},
    {"rmutex", wait_rmutex, MTASK_TIMEOUT},
    {"shared mutex", wait_shared, MTASK_TIMEOUT},
    {"cond", wait_cond, MTASK_TIMEOUT},
    {"cond with rmutex", wait_cond_rmutex, MTASK_TIMEOUT},
    {"semaphore", wait_sem, MTASK_TIMEOUT},
    {"event", wait_event, MTASK_TIMEOUT},
    {"barrier", wait_barrier, MTASK_TIMEOUT},
    {"rwlock read", wait_read, MTASK_TIMEOUT},
    {"rwlock write", wait_write, MTASK_TIMEOUT},
    {"waitgroup", wait_waitgroup, MTASK_TIMEOUT},
    {"future get", wait_get, MTASK_TIMEOUT},
    {"future wait", wait_future, MTASK_TIMEOUT},
    {"futures wait", wait_any, MTASK_TIMEOUT},
    {"thread join", wait_join, MTASK_TIMEOUT},
    {"thread join all", wait_join_all, MTASK_TIMEOUT},
    {"timer cancel", wait_timer, MTASK_TIMEOUT},
    {"queue put", wait_queue_put, MTASK_FULL},
    {"queue get", wait_queue_get, MTASK_EMPTY},
    {"queue put many", wait_put_many, MTASK_FULL},
    {"queue get many", wait_get_many, MTASK_EMPTY},
    {"queue join", wait_queue_join, MTASK_TIMEOUT},
    {"queue select", wait_select, MTASK_TIMEOUT},
    {"pool submit", wait_submit, MTASK_FULL},
    {"pool join", wait_pool_join, MTASK_TIMEOUT},
    {"group wait", wait_group, MTASK_TIMEOUT},
    {"imap next", wait_imap, MTASK_TIMEOUT},
    {"completed next", wait_completed, MTASK_TIMEOUT},
};

static void check_wait(const wait_kind *kind, int64_t timeout, mtask_status expected) {
    mtask_status status = kind->wait(timeout);
    if (status != expected)
        fprintf(stderr, "%s:\n", kind->name); /* tells which one it was */
    ck_assert_status(status, expected);
}

/* Counts its turns while others wait. */
static void *tick(void *arg) {
    while (!stage.over) {
        stage.ticks++;
        take_turns();
    }
    return arg;
}

/* Runs fn once on a stage that is set, with a task that is always ready beside it. */
static void *with_scene(void *arg) {
    mtask_future *ticker = go(tick, NULL);
    mtask_fn fn = *(const mtask_fn *)arg;
    open_scene();
    (void)fn(NULL);
    stage.over = true;
    (void)take(ticker);
    close_scene();
    return arg;
}

static void on_stage(mtask_fn fn) {
    (void)in_loop(with_scene, &fn);
}

/* ---- cancellation stays ---- */

/* Each wait of a cancelled task answers so, but lets the others run. */
static void check_sticky(const wait_kind *kind) {
    for (int i = 0; i < 3; i++) {
        long before = stage.ticks;
        check_wait(kind, LONG, MTASK_CANCELED);
        ck_assert_int_gt(stage.ticks, before);
    }
}

static void *be_cancelled_waiting(void *arg) {
    const wait_kind *kind = (const wait_kind *)arg;
    check_wait(kind, LONG, MTASK_CANCELED);
    ck_assert(mtask_canceled());
    check_sticky(kind);
    return arg;
}

static void *cancel_each_wait(void *arg) {
    for (long i = 0; i < COUNT_OF(kinds); i++) {
        wait_kind kind = kinds[i];
        mtask_future *future = go(be_cancelled_waiting, &kind);
        take_turns();
        take_turns();
        ck_assert(!mtask_future_done(future));
        cancel(future);
        (void)take(future);
        check_wait(&kinds[i], MTASK_US(50), kind.expired); /* it works as before */
    }
    return arg;
}

START_TEST(whatever_waits_is_cancelled) {
    on_stage(cancel_each_wait);
}
END_TEST

static void *wait_although_cancelled(void *arg) {
    cancel_self((mtask_future **)arg);
    for (long i = 0; i < COUNT_OF(kinds); i++)
        check_sticky(&kinds[i]);
    return arg;
}

static void *cancel_one_that_runs(void *arg) {
    mtask_future *future = go(wait_although_cancelled, &future);
    await_status(future, MTASK_OK);
    return arg;
}

START_TEST(no_wait_of_a_cancelled_task_begins) {
    on_stage(cancel_one_that_runs);
}
END_TEST

/* Tries again and again, as if nothing had happened. */
static void *be_careless(void *arg) {
    const wait_kind *kind = (const wait_kind *)arg;
    long tries = 0;
    while (!stage.over) {
        check_wait(kind, LONG, MTASK_CANCELED);
        tries++;
    }
    return (void *)tries;
}

static void *wake_by_thread(void *arg) {
    testing_pause(2);
    mtask_event_set((mtask_event *)arg);
    return arg;
}

static void *outlast_the_careless(void *arg) {
    mtask_future *futures[COUNT_OF(kinds)];
    mtask_event event = {0};
    mtask_thread thread = {0};
    for (long i = 0; i < COUNT_OF(kinds); i++) {
        static wait_kind copies[COUNT_OF(kinds)];
        copies[i] = kinds[i];
        futures[i] = go(be_careless, &copies[i]);
    }
    take_turns();
    for (long i = 0; i < COUNT_OF(kinds); i++)
        cancel(futures[i]);
    for (int i = 0; i < 3; i++)
        ck_assert_status(mtask_sleep(MTASK_MS(1)), MTASK_OK);
    ck_assert_status(mtask_thread_start(&thread, wake_by_thread, &event), MTASK_OK);
    ck_assert_status(mtask_event_wait(&event, LONG), MTASK_OK);
    ck_assert_status(mtask_thread_join(&thread, NULL, LONG), MTASK_OK);
    stage.over = true;
    for (long i = 0; i < COUNT_OF(kinds); i++)
        ck_assert_int_gt((long)take(futures[i]), 1);
    return arg;
}

START_TEST(careless_tasks_do_not_freeze_their_loop) {
    on_stage(outlast_the_careless);
}
END_TEST

static void *yield_cancelled(void *arg) {
    cancel_self((mtask_future **)arg);
    for (int i = 0; i < 3; i++) {
        long before = stage.ticks;
        ck_assert_status(mtask_yield(), MTASK_CANCELED);
        ck_assert_int_gt(stage.ticks, before);
    }
    return arg;
}

static void *cancel_one_that_yields(void *arg) {
    mtask_future *future = go(yield_cancelled, &future);
    await_status(future, MTASK_OK);
    return arg;
}

START_TEST(a_yield_tells_of_the_cancellation_and_yields) {
    on_stage(cancel_one_that_yields);
}
END_TEST

/* What need not wait is done, whoever does it. */
static void *do_what_need_not_wait(void *arg) {
    mtask_sem sem = {.word = 2};
    mtask_event event = {0};
    mtask_mutex mutex = {0};
    mtask_rwlock rwlock = {0};
    mtask_waitgroup none = {0};
    mtask_word word = 1;
    long item = 0;
    cancel_self((mtask_future **)arg);
    mtask_event_set(&event);
    ck_assert_status(mtask_sem_acquire(&sem, LONG), MTASK_OK);
    ck_assert_status(mtask_event_wait(&event, LONG), MTASK_OK);
    ck_assert_status(mtask_mutex_lock_for(&mutex, LONG), MTASK_OK);
    ck_assert_status(mtask_rwlock_lock_read_for(&rwlock, LONG), MTASK_OK);
    ck_assert_status(mtask_waitgroup_wait(&none, LONG), MTASK_OK);
    ck_assert_status(mtask_word_wait(&word, 0, LONG, 0), MTASK_OK);
    ck_assert_status(mtask_queue_put(&stage.empty, &item, LONG), MTASK_OK);
    ck_assert_status(mtask_queue_get(&stage.empty, &item, LONG), MTASK_OK);
    ck_assert_status(mtask_future_set(stage.future, &item), MTASK_OK);
    ck_assert_status(mtask_future_get(stage.future, NULL, LONG), MTASK_OK);
    ck_assert_status(mtask_sem_acquire(&sem, LONG), MTASK_OK);
    ck_assert_status(mtask_sem_acquire(&sem, LONG), MTASK_CANCELED);
    return arg;
}

static void *cancel_one_that_need_not_wait(void *arg) {
    mtask_future *future = go(do_what_need_not_wait, &future);
    await_status(future, MTASK_OK);
    return arg;
}

START_TEST(what_need_not_wait_does_not_look) {
    on_stage(cancel_one_that_need_not_wait);
}
END_TEST

/* ---- what is no cancellation point ---- */

typedef struct stubborn_kind {
    mtask_status (*wait)(void);
    void (*release)(void); /* by the task that set the stage */
} stubborn_kind;

static mtask_status lock_mutex(void) {
    return mtask_mutex_lock(&stage.mutex);
}

static void unlock_mutex(void) {
    ck_assert_status(mtask_mutex_unlock(&stage.mutex), MTASK_OK);
}

static mtask_status lock_rmutex(void) {
    mtask_status status = mtask_rmutex_lock(&stage.held_rmutex);
    ck_assert_uint_eq(mtask_rmutex_count(&stage.held_rmutex), 1);
    return status;
}

static void unlock_rmutex(void) {
    ck_assert_status(mtask_rmutex_unlock(&stage.held_rmutex), MTASK_OK);
}

static mtask_status lock_read(void) {
    mtask_status status = mtask_rwlock_lock_read(&stage.rwlock);
    ck_assert_status(mtask_rwlock_unlock_read(&stage.rwlock), MTASK_OK);
    return status;
}

static mtask_status lock_write(void) {
    return mtask_rwlock_lock_write(&stage.read_lock);
}

static void unlock_read(void) {
    ck_assert_status(mtask_rwlock_unlock_read(&stage.read_lock), MTASK_OK);
}

static void unlock_write(void) {
    ck_assert_status(mtask_rwlock_unlock_write(&stage.rwlock), MTASK_OK);
}

static mtask_status do_once(void) {
    return mtask_once(&stage.once, run_once_and_wait, NULL);
}

static void open_gate(void) {
    mtask_event_set(&stage.gate);
}

static const stubborn_kind stubborn[] = {{lock_mutex, unlock_mutex},
                                         {lock_rmutex, unlock_rmutex},
                                         {lock_read, unlock_write},
                                         {lock_write, unlock_read},
                                         {do_once, open_gate}};

/* A task that is cancelled before or while it waits so. */
typedef struct stubborn_try {
    const stubborn_kind *kind;
    mtask_future *self;
    bool before;
} stubborn_try;

static void *be_stubborn(void *arg) {
    stubborn_try *tried = (stubborn_try *)arg;
    if (tried->before)
        cancel_self(&tried->self);
    ck_assert_status(tried->kind->wait(), MTASK_OK);
    ck_assert(mtask_canceled());
    ck_assert_status(mtask_sleep(LONG), MTASK_CANCELED);
    return arg;
}

static void cancel_stubborn_waits(bool before) {
    for (long i = 0; i < COUNT_OF(stubborn); i++) {
        stubborn_try tried = {.kind = &stubborn[i], .before = before};
        tried.self = go(be_stubborn, &tried);
        take_turns();
        cancel(tried.self);
        for (int turn = 0; turn < 5; turn++)
            take_turns();
        ck_assert(!mtask_future_done(tried.self));
        tried.kind->release();
        await_status(tried.self, MTASK_OK);
    }
}

static void *cancel_stubborn_waits_before(void *arg) {
    cancel_stubborn_waits(true);
    return arg;
}

static void *cancel_stubborn_waits_meanwhile(void *arg) {
    cancel_stubborn_waits(false);
    return arg;
}

START_TEST(what_takes_no_timeout_is_no_cancellation_point) {
    on_stage(cancel_stubborn_waits_before);
    on_stage(cancel_stubborn_waits_meanwhile);
}
END_TEST

/* ---- shields ---- */

static void *wait_behind_a_shield(void *arg) {
    cancel_self((mtask_future **)arg);
    for (long i = 0; i < COUNT_OF(kinds); i++) {
        mtask_shield_begin();
        check_wait(&kinds[i], MTASK_US(50), kinds[i].expired);
        ck_assert_status(mtask_yield(), MTASK_OK);
        mtask_shield_end();
        check_wait(&kinds[i], LONG, MTASK_CANCELED);
    }
    return arg;
}

static void *cancel_one_behind_a_shield(void *arg) {
    mtask_future *future = go(wait_behind_a_shield, &future);
    await_status(future, MTASK_OK);
    return arg;
}

START_TEST(behind_a_shield_nothing_is_cancelled) {
    on_stage(cancel_one_behind_a_shield);
}
END_TEST

static void *nest_shields(void *arg) {
    mtask_event *event = (mtask_event *)arg;
    mtask_shield_begin();
    ck_assert_status(mtask_event_wait(event, LONG), MTASK_OK); /* cancelled meanwhile */
    mtask_shield_begin();
    ck_assert_status(mtask_sleep(MTASK_US(50)), MTASK_OK);
    mtask_shield_end();
    ck_assert_status(mtask_sleep(MTASK_US(50)), MTASK_OK);
    mtask_shield_end();
    ck_assert(mtask_canceled());
    ck_assert_status(mtask_sleep(MTASK_US(50)), MTASK_CANCELED);
    mtask_shield_begin();
    ck_assert_status(mtask_sleep(MTASK_US(50)), MTASK_OK);
    mtask_shield_end();
    ck_assert_status(mtask_sleep(MTASK_US(50)), MTASK_CANCELED);
    return arg;
}

static void *cancel_during_a_shield(void *arg) {
    mtask_event event = {0};
    mtask_future *future = go(nest_shields, &event);
    take_turns();
    cancel(future);
    for (int i = 0; i < 3; i++)
        take_turns();
    ck_assert(!mtask_future_done(future));
    mtask_event_set(&event);
    (void)take(future);
    return arg;
}

START_TEST(shields_nest_and_hold_back_what_comes_meanwhile) {
    (void)in_loop(cancel_during_a_shield, NULL);
}
END_TEST

/* ---- woken beats cancelled, and no wake-up is swallowed ---- */

/* Something of which a wait takes one, and `give` brings one. */
typedef struct token_kind {
    const char *name;
    void (*hold)(void); /* in the beginning there is none */
    mtask_status (*wait)(int64_t timeout);
    void (*give)(void);
    mtask_status none; /* what a wait in vain answers */
} token_kind;

static void hold_mutex(void) {
    ck_assert_status(mtask_mutex_lock(&stage.mutex), MTASK_OK);
}

static void hold_rwlock(void) {
    ck_assert_status(mtask_rwlock_lock_write(&stage.rwlock), MTASK_OK);
}

static void hold_queues(void) {
    long item = 1;
    open_queue(&stage.empty);
    open_queue(&stage.full);
    ck_assert_status(mtask_queue_put(&stage.full, &item, MTASK_NOWAIT), MTASK_OK);
}

static void hold_nothing(void) {
}

static void give_sem(void) {
    ck_assert_status(mtask_sem_release(&stage.sem, 1), MTASK_OK);
}

static void give_notify(void) {
    ck_assert_status(mtask_mutex_lock(&stage.free_mutex), MTASK_OK);
    ck_assert_status(mtask_cond_notify(&stage.cond, 1), MTASK_OK);
    ck_assert_status(mtask_mutex_unlock(&stage.free_mutex), MTASK_OK);
}

static void give_item(void) {
    long item = 1;
    ck_assert_status(mtask_queue_put(&stage.empty, &item, MTASK_NOWAIT), MTASK_OK);
}

static void give_room(void) {
    long item;
    ck_assert_status(mtask_queue_get(&stage.full, &item, MTASK_NOWAIT), MTASK_OK);
}

static mtask_status get_by_select(int64_t timeout) {
    long item;
    mtask_queue_case one = {.queue = &stage.empty, .op = MTASK_GET, .item = &item};
    return mtask_queue_select(&one, 1, NULL, timeout);
}

static mtask_status lock_rwlock(int64_t timeout) {
    return mtask_rwlock_lock_write_for(&stage.rwlock, timeout);
}

static const token_kind tokens[] = {
    {"mutex", hold_mutex, wait_mutex, unlock_mutex, MTASK_TIMEOUT},
    {"rwlock", hold_rwlock, lock_rwlock, unlock_write, MTASK_TIMEOUT},
    {"semaphore", hold_nothing, wait_sem, give_sem, MTASK_TIMEOUT},
    {"cond", hold_nothing, wait_cond, give_notify, MTASK_TIMEOUT},
    {"queue get", hold_queues, wait_queue_get, give_item, MTASK_EMPTY},
    {"queue put", hold_queues, wait_queue_put, give_room, MTASK_FULL},
    {"queue select", hold_queues, get_by_select, give_item, MTASK_TIMEOUT},
};

static void *wait_for_token(void *arg) {
    const token_kind *kind = (const token_kind *)arg;
    return (void *)(long)kind->wait(LONG);
}

static void *wait_for_token_and_again(void *arg) {
    void *status = wait_for_token(arg);
    ck_assert_status(mtask_sleep(LONG), MTASK_CANCELED);
    return status;
}

static mtask_status end_of(mtask_future *future) {
    return (mtask_status)(long)take(future);
}

static void set_up_tokens(const token_kind *kind) {
    fprintf(stderr, "%s\n", kind->name); /* tells which one it was that failed */
    memset(&stage, 0, sizeof stage);
    kind->hold();
}

static void tidy_tokens(const token_kind *kind) {
    if (kind->hold != hold_queues)
        return;
    ck_assert_status(mtask_queue_deinit(&stage.empty), MTASK_OK);
    ck_assert_status(mtask_queue_deinit(&stage.full), MTASK_OK);
}

/* The first of two waiters is given a token and then cancelled: it is woken. The other one waits
   on, for the next. */
static void cancel_the_woken(const token_kind *kind) {
    token_kind copy = *kind;
    mtask_future *first = go(wait_for_token_and_again, &copy), *second;
    take_turns();
    second = go(wait_for_token, &copy);
    take_turns();
    kind->give();
    cancel(first);
    ck_assert_status(end_of(first), MTASK_OK);
    ck_assert(!mtask_future_done(second));
    kind->give();
    ck_assert_status(end_of(second), MTASK_OK);
}

/* The first is cancelled and then a token comes: one of the two has it in the end. */
static void wake_the_cancelled(const token_kind *kind) {
    token_kind copy = *kind;
    mtask_future *first = go(wait_for_token, &copy), *second;
    mtask_status status;
    take_turns();
    second = go(wait_for_token, &copy);
    take_turns();
    cancel(first);
    kind->give();
    status = end_of(first);
    testing_check(status == MTASK_OK || status == MTASK_CANCELED);
    if (status == MTASK_OK) {
        ck_assert(!mtask_future_done(second));
        kind->give();
    }
    ck_assert_status(end_of(second), MTASK_OK);
}

static void *try_tokens(void *arg) {
    for (long i = 0; i < COUNT_OF(tokens); i++) {
        set_up_tokens(&tokens[i]);
        cancel_the_woken(&tokens[i]);
        tidy_tokens(&tokens[i]);
        set_up_tokens(&tokens[i]);
        wake_the_cancelled(&tokens[i]);
        tidy_tokens(&tokens[i]);
    }
    return arg;
}

START_TEST(woken_beats_cancelled_and_nothing_is_lost) {
    (void)in_loop(try_tokens, NULL);
}
END_TEST

static void *pass_event(void *arg) {
    ck_assert_status(mtask_event_wait((mtask_event *)arg, LONG), MTASK_OK);
    ck_assert_status(mtask_event_wait((mtask_event *)arg, LONG), MTASK_CANCELED);
    return arg;
}

/* Who waited when it was set goes on, although it was cancelled and the event cleared at once. */
static void *set_cancel_and_clear(void *arg) {
    mtask_event event = {0};
    mtask_future *futures[3];
    for (int i = 0; i < 3; i++)
        futures[i] = go(pass_event, &event);
    take_turns();
    mtask_event_set(&event);
    for (int i = 0; i < 3; i++)
        cancel(futures[i]);
    mtask_event_clear(&event);
    for (int i = 0; i < 3; i++)
        (void)take(futures[i]);
    return arg;
}

START_TEST(who_was_released_by_an_event_is_not_cancelled) {
    (void)in_loop(set_cancel_and_clear, NULL);
}
END_TEST

/* A token that comes at any moment to one of some waiters, most of whom have little time. */
typedef struct raffle {
    const token_kind *kind;
    testing_random random;
    mtask_sem asked; /* the thread is to give one */
    long rounds;
} raffle;

/* Whoever gets it in time passes it on. */
static void *take_in_a_hurry(void *arg) {
    raffle *self = (raffle *)arg;
    mtask_limit limit;
    int64_t time = MTASK_US(testing_below(&self->random, 60));
    mtask_status status, ended;
    ck_assert_status(mtask_limit_begin(&limit, time), MTASK_OK);
    status = self->kind->wait(LONG);
    ended = mtask_limit_end(&limit);
    testing_check(status == MTASK_OK || status == MTASK_CANCELED);
    testing_check(status == MTASK_OK || ended == MTASK_TIMEOUT);
    if (status == MTASK_OK)
        self->kind->give();
    return arg;
}

static void *give_tokens(void *arg) {
    raffle *self = (raffle *)arg;
    testing_random random = testing_random_make(testing_seed(), 1);
    for (long i = 0; i < self->rounds; i++) {
        ck_assert_status(mtask_sem_acquire(&self->asked, MTASK_FOREVER), MTASK_OK);
        testing_dawdle(&random, 20000);
        self->kind->give();
    }
    return arg;
}

/* In the end the token is here: if one of those who gave up has swallowed the wake-up, never. */
static void draw_lots(const token_kind *kind) {
    raffle self = {.kind = kind, .rounds = testing_scale(400)};
    mtask_thread thread = {0};
    self.random = testing_random_make(testing_seed(), 0);
    set_up_tokens(kind);
    ck_assert_status(mtask_thread_start(&thread, give_tokens, &self), MTASK_OK);
    for (long i = 0; i < self.rounds; i++) {
        mtask_future *futures[3];
        for (int one = 0; one < 3; one++)
            futures[one] = go(take_in_a_hurry, &self);
        ck_assert_status(mtask_sem_release(&self.asked, 1), MTASK_OK);
        if (testing_below(&self.random, 2) == 0)
            take_turns();
        ck_assert_status(kind->wait(LONG), MTASK_OK);
        for (int one = 0; one < 3; one++)
            (void)take(futures[one]);
    }
    ck_assert_status(mtask_thread_join(&thread, NULL, LONG), MTASK_OK);
    ck_assert_status(kind->wait(MTASK_US(50)), kind->none);
}

static void *draw_lots_for_each(void *arg) {
    for (long i = 0; i < COUNT_OF(tokens); i++) {
        if (tokens[i].wait == wait_cond) /* a notify is not kept for who comes later */
            continue;
        draw_lots(&tokens[i]);
        tidy_tokens(&tokens[i]);
    }
    return arg;
}

START_TEST(waiters_that_give_up_leave_the_token_to_others) {
    (void)in_loop(draw_lots_for_each, NULL);
}
END_TEST

/* ---- conditions and barriers ---- */

static void *wait_for_notify(void *arg) {
    ck_assert_status(mtask_mutex_lock(&stage.mutex), MTASK_OK);
    ck_assert_status(mtask_cond_wait(&stage.cond, &stage.mutex, LONG), MTASK_CANCELED);
    ck_assert(mtask_mutex_is_locked(&stage.mutex));
    ck_assert(stage.over); /* the lock was not free before */
    ck_assert_status(mtask_mutex_unlock(&stage.mutex), MTASK_OK);
    return arg;
}

/* The lock is held by another one when the wait is cancelled, and for long. */
static void *cancel_waiters_of_cond(void *arg) {
    mtask_future *futures[3];
    memset(&stage, 0, sizeof stage);
    for (int i = 0; i < 3; i++)
        futures[i] = go(wait_for_notify, NULL);
    take_turns();
    ck_assert_status(mtask_mutex_lock(&stage.mutex), MTASK_OK);
    for (int i = 0; i < 3; i++)
        cancel(futures[i]);
    ck_assert_status(mtask_sleep(MTASK_MS(1)), MTASK_OK);
    stage.over = true;
    ck_assert_status(mtask_mutex_unlock(&stage.mutex), MTASK_OK);
    for (int i = 0; i < 3; i++)
        (void)take(futures[i]);
    ck_assert(!mtask_mutex_is_locked(&stage.mutex));
    return arg;
}

START_TEST(a_cancelled_waiter_of_a_condition_has_its_lock_back) {
    (void)in_loop(cancel_waiters_of_cond, NULL);
}
END_TEST

static void *meet(void *arg) {
    return (void *)(long)mtask_barrier_wait((mtask_barrier *)arg, NULL, LONG);
}

static void *cancel_one_of_a_meeting(void *arg) {
    mtask_barrier barrier;
    mtask_future *futures[3];
    ck_assert_status(mtask_barrier_init(&barrier, 4, NULL, NULL, 0), MTASK_OK);
    for (int i = 0; i < 3; i++)
        futures[i] = go(meet, &barrier);
    take_turns();
    cancel(futures[1]);
    ck_assert_status(end_of(futures[1]), MTASK_CANCELED);
    ck_assert_status(end_of(futures[0]), MTASK_BROKEN);
    ck_assert_status(end_of(futures[2]), MTASK_BROKEN);
    ck_assert(mtask_barrier_is_broken(&barrier));
    ck_assert_status(mtask_barrier_reset(&barrier), MTASK_OK);
    for (int i = 0; i < 3; i++)
        futures[i] = go(meet, &barrier);
    ck_assert_status(mtask_barrier_wait(&barrier, NULL, LONG), MTASK_OK);
    for (int i = 0; i < 3; i++)
        ck_assert_status(end_of(futures[i]), MTASK_OK);
    return arg;
}

START_TEST(a_cancelled_party_breaks_the_barrier) {
    (void)in_loop(cancel_one_of_a_meeting, NULL);
}
END_TEST

/* ---- waits that block the thread ---- */

static void *block_the_loop(void *arg) {
    long before = stage.ticks;
    int64_t start = mtask_now();
    mtask_nopark_begin();
    ck_assert_status(mtask_sleep(MTASK_MS(2)), MTASK_OK);
    mtask_nopark_begin();
    ck_assert_status(wait_event(MTASK_MS(1)), MTASK_TIMEOUT);
    mtask_nopark_end();
    ck_assert_status(mtask_sleep(MTASK_MS(1)), MTASK_OK);
    ck_assert_int_eq(stage.ticks, before);
    ck_assert_int_ge(mtask_now() - start, MTASK_MS(4));
    mtask_nopark_end();
    ck_assert_status(mtask_sleep(MTASK_US(50)), MTASK_OK);
    ck_assert_int_gt(stage.ticks, before);
    return arg;
}

static void *hold_and_wake(void *arg) {
    ck_assert_status(mtask_mutex_lock(&stage.mutex), MTASK_OK);
    mtask_word_store(&stage.waiting, 1);
    testing_pause(2);
    ck_assert_status(mtask_mutex_unlock(&stage.mutex), MTASK_OK);
    testing_pause(2);
    mtask_event_set(&stage.event);
    return arg;
}

/* A thread holds what is waited for. */
static void *block_for_a_thread(void *arg) {
    long before;
    mtask_thread thread = {0};
    ck_assert_status(mtask_thread_start(&thread, hold_and_wake, NULL), MTASK_OK);
    await_word(&stage.waiting);
    before = stage.ticks;
    mtask_nopark_begin();
    ck_assert_status(mtask_mutex_lock(&stage.mutex), MTASK_OK);
    ck_assert_status(mtask_mutex_unlock(&stage.mutex), MTASK_OK);
    ck_assert_status(mtask_event_wait(&stage.event, LONG), MTASK_OK);
    ck_assert_status(mtask_thread_join(&thread, NULL, LONG), MTASK_OK);
    mtask_nopark_end();
    ck_assert_int_eq(stage.ticks, before);
    return arg;
}

static void *block_beside_a_ticker(void *arg) {
    mtask_future *ticker;
    memset(&stage, 0, sizeof stage);
    ticker = go(tick, NULL);
    take_turns();
    (void)take(go(block_the_loop, NULL));
    (void)take(go(block_for_a_thread, NULL));
    stage.over = true;
    (void)take(ticker);
    return arg;
}

START_TEST(waits_may_block_the_thread) {
    (void)in_loop(block_beside_a_ticker, NULL);
}
END_TEST

/* ---- limits of time ---- */

/* Uses the CPU until so much time has passed, and never waits. */
static void compute_for(int64_t duration) {
    int64_t end = mtask_now() + duration;
    while (mtask_now() < end) {
    }
}

static void *run_into_limit(void *arg) {
    mtask_limit limit;
    mtask_event never = {0};
    int64_t start = mtask_now();
    memset(&limit, 0xA5, sizeof limit);
    ck_assert_status(mtask_limit_begin(&limit, MTASK_MS(2)), MTASK_OK);
    ck_assert(!mtask_canceled());
    ck_assert_status(mtask_event_wait(&never, MTASK_FOREVER), MTASK_CANCELED);
    ck_assert_int_ge(mtask_now() - start, MTASK_MS(2));
    ck_assert(mtask_canceled());
    for (int i = 0; i < 3; i++) /* it stays */
        ck_assert_status(mtask_sleep(LONG), MTASK_CANCELED);
    ck_assert_status(mtask_yield(), MTASK_CANCELED);
    ck_assert_status(mtask_limit_end(&limit), MTASK_TIMEOUT);
    ck_assert(!mtask_canceled());
    ck_assert_status(mtask_sleep(MTASK_US(50)), MTASK_OK);
    return arg;
}

START_TEST(a_limit_cuts_waits_short) {
    (void)in_loop(run_into_limit, NULL);
}
END_TEST

static void *stay_within_limit(void *arg) {
    static const int64_t times[] = {MTASK_SEC(1000), INT64_MAX - 1, MTASK_FOREVER};
    for (long i = 0; i < COUNT_OF(times); i++) {
        mtask_limit limit;
        ck_assert_status(mtask_limit_begin(&limit, times[i]), MTASK_OK);
        ck_assert_status(mtask_sleep(MTASK_US(100)), MTASK_OK);
        ck_assert(!mtask_canceled());
        ck_assert_status(mtask_limit_end(&limit), MTASK_OK);
    }
    for (int i = 0; i < 5; i++) { /* one that has ended does not come back */
        mtask_limit limit;
        ck_assert_status(mtask_limit_begin(&limit, MTASK_US(300)), MTASK_OK);
        ck_assert_status(mtask_limit_end(&limit), MTASK_OK);
        memset(&limit, 0xA5, sizeof limit);
        ck_assert_status(mtask_sleep(MTASK_US(400)), MTASK_OK);
    }
    return arg;
}

START_TEST(a_limit_that_is_not_reached_does_nothing) {
    (void)in_loop(stay_within_limit, NULL);
}
END_TEST

static void *limit_each_wait(void *arg) {
    for (long i = 0; i < COUNT_OF(kinds); i++) {
        mtask_limit limit;
        long before = stage.ticks;
        ck_assert_status(mtask_limit_begin(&limit, MTASK_US(100)), MTASK_OK);
        check_wait(&kinds[i], LONG, MTASK_CANCELED);
        check_sticky(&kinds[i]);
        ck_assert_status(mtask_limit_end(&limit), MTASK_TIMEOUT);
        check_wait(&kinds[i], MTASK_US(50), kinds[i].expired);
        ck_assert_int_gt(stage.ticks, before);
    }
    return arg;
}

START_TEST(whatever_waits_is_cut_short_by_a_limit) {
    on_stage(limit_each_wait);
}
END_TEST

static void *pass_limits_without_waiting(void *arg) {
    mtask_limit limit;
    mtask_event event = {0};
    mtask_event_set(&event);
    ck_assert_status(mtask_limit_begin(&limit, MTASK_US(100)), MTASK_OK);
    compute_for(MTASK_US(300));
    ck_assert(mtask_canceled());
    ck_assert_status(mtask_event_wait(&event, LONG), MTASK_OK); /* need not wait */
    ck_assert_status(mtask_limit_end(&limit), MTASK_OK);
    ck_assert(!mtask_canceled());
    take_turns();
    ck_assert_status(mtask_limit_begin(&limit, MTASK_US(100)), MTASK_OK);
    compute_for(MTASK_US(300));
    ck_assert_status(mtask_sleep(LONG), MTASK_CANCELED);
    ck_assert_status(mtask_limit_end(&limit), MTASK_TIMEOUT);
    ck_assert_status(mtask_limit_begin(&limit, 0), MTASK_OK);
    ck_assert_status(mtask_limit_end(&limit), MTASK_OK);
    ck_assert_status(mtask_limit_begin(&limit, 0), MTASK_OK);
    ck_assert_status(mtask_sleep(LONG), MTASK_CANCELED);
    ck_assert_status(mtask_limit_end(&limit), MTASK_TIMEOUT);
    return arg;
}

START_TEST(a_limit_that_passes_while_nothing_waits_fails_nothing) {
    (void)in_loop(pass_limits_without_waiting, NULL);
}
END_TEST

static void *nest_limits(void *arg) {
    mtask_limit outer, inner;
    ck_assert_status(mtask_limit_begin(&outer, LONG), MTASK_OK);
    ck_assert_status(mtask_limit_begin(&inner, MTASK_MS(1)), MTASK_OK);
    ck_assert_status(mtask_sleep(LONG), MTASK_CANCELED);
    ck_assert_status(mtask_limit_end(&inner), MTASK_TIMEOUT);
    ck_assert_status(mtask_sleep(MTASK_US(50)), MTASK_OK);
    ck_assert_status(mtask_limit_end(&outer), MTASK_OK);
    ck_assert_status(mtask_limit_begin(&outer, MTASK_MS(1)), MTASK_OK);
    ck_assert_status(mtask_limit_begin(&inner, LONG), MTASK_OK);
    ck_assert_status(mtask_sleep(LONG), MTASK_CANCELED);
    ck_assert_status(mtask_limit_end(&inner), MTASK_OK); /* it was not this one */
    ck_assert(mtask_canceled());
    ck_assert_status(mtask_sleep(LONG), MTASK_CANCELED);
    ck_assert_status(mtask_limit_end(&outer), MTASK_TIMEOUT);
    ck_assert_status(mtask_sleep(MTASK_US(50)), MTASK_OK);
    return arg;
}

/* A yield is a wait, too. */
static void *yield_beyond_limit(void *arg) {
    mtask_limit limit;
    ck_assert_status(mtask_limit_begin(&limit, 0), MTASK_OK);
    ck_assert_status(mtask_yield(), MTASK_CANCELED);
    ck_assert_status(mtask_limit_end(&limit), MTASK_TIMEOUT);
    ck_assert_status(mtask_yield(), MTASK_OK);
    return arg;
}

START_TEST(a_limit_cuts_yields_short) {
    (void)in_loop(yield_beyond_limit, NULL);
}
END_TEST

START_TEST(limits_nest) {
    (void)in_loop(nest_limits, NULL);
}
END_TEST

/* Both have passed; each is told of by a wait within it. */
static void *reach_both_limits(void *arg) {
    for (int which = 0; which < 2; which++) {
        mtask_limit outer, inner;
        int64_t time = which == 0 ? 0 : MTASK_US(200);
        ck_assert_status(mtask_limit_begin(&outer, time), MTASK_OK);
        ck_assert_status(mtask_limit_begin(&inner, time), MTASK_OK);
        compute_for(time * 2);
        ck_assert_status(mtask_sleep(LONG), MTASK_CANCELED);
        ck_assert(mtask_canceled());
        (void)mtask_limit_end(&inner);
        ck_assert(mtask_canceled());
        ck_assert_status(mtask_sleep(LONG), MTASK_CANCELED);
        ck_assert_status(mtask_limit_end(&outer), MTASK_TIMEOUT);
        ck_assert(!mtask_canceled());
    }
    return arg;
}

START_TEST(several_limits_may_have_passed) {
    (void)in_loop(reach_both_limits, NULL);
}
END_TEST

static void *set_limits_again(void *arg) {
    mtask_limit outer, inner;
    int64_t start = mtask_now();
    ck_assert_status(mtask_limit_begin(&outer, MTASK_MS(20)), MTASK_OK);
    ck_assert_status(mtask_limit_set(&outer, LONG), MTASK_OK);
    ck_assert_status(mtask_sleep(MTASK_MS(25)), MTASK_OK);
    ck_assert_status(mtask_limit_set(&outer, -1), MTASK_INVALID);
    ck_assert_status(mtask_limit_begin(&inner, MTASK_FOREVER), MTASK_OK);
    ck_assert_status(mtask_limit_set(&inner, MTASK_MS(2)), MTASK_OK);
    ck_assert_status(mtask_sleep(LONG), MTASK_CANCELED);
    ck_assert_int_ge(mtask_now() - start, MTASK_MS(2));
    ck_assert_status(mtask_limit_set(&inner, LONG), MTASK_INVALID); /* it has been reached */
    ck_assert_status(mtask_sleep(LONG), MTASK_CANCELED);
    ck_assert_status(mtask_limit_end(&inner), MTASK_TIMEOUT);
    ck_assert_status(mtask_limit_set(&outer, MTASK_FOREVER), MTASK_OK);
    ck_assert_status(mtask_sleep(MTASK_US(50)), MTASK_OK);
    ck_assert_status(mtask_limit_set(&outer, 0), MTASK_OK);
    ck_assert_status(mtask_sleep(LONG), MTASK_CANCELED);
    ck_assert_status(mtask_limit_end(&outer), MTASK_TIMEOUT);
    return arg;
}

START_TEST(a_limit_can_be_set_again_until_it_is_reached) {
    (void)in_loop(set_limits_again, NULL);
}
END_TEST

/* An outer one is set while an inner one is there. */
static void *set_the_outer_limit(void *arg) {
    mtask_limit outer, inner;
    ck_assert_status(mtask_limit_begin(&outer, LONG), MTASK_OK);
    ck_assert_status(mtask_limit_begin(&inner, LONG), MTASK_OK);
    ck_assert_status(mtask_limit_set(&outer, MTASK_US(200)), MTASK_OK);
    ck_assert_status(mtask_sleep(LONG), MTASK_CANCELED);
    ck_assert_status(mtask_limit_end(&inner), MTASK_OK);
    ck_assert_status(mtask_limit_end(&outer), MTASK_TIMEOUT);
    return arg;
}

START_TEST(an_outer_limit_can_be_set_from_within_an_inner_one) {
    (void)in_loop(set_the_outer_limit, NULL);
}
END_TEST

static void begin_outside(void *arg) {
    mtask_limit limit;
    ck_assert_status(mtask_limit_begin(&limit, LONG), MTASK_INVALID);
    mtask_event_set((mtask_event *)arg);
}

static void *end_anothers_limit(void *arg) {
    ck_assert_status(mtask_limit_end((mtask_limit *)arg), MTASK_INVALID);
    return arg;
}

static void *misuse_limits(void *arg) {
    mtask_limit outer, inner;
    mtask_event event = {0};
    mtask_loop_call call = {.fn = begin_outside, .arg = &event};
    ck_assert_status(mtask_limit_begin(&outer, -1), MTASK_INVALID);
    ck_assert_status(mtask_limit_begin(&outer, LONG), MTASK_OK);
    ck_assert_status(mtask_limit_begin(&inner, LONG), MTASK_OK);
    ck_assert_status(mtask_limit_end(&outer), MTASK_INVALID);
    (void)take(go(end_anothers_limit, &inner));
    ck_assert_status(mtask_limit_end(&inner), MTASK_OK);
    ck_assert_status(mtask_limit_end(&inner), MTASK_INVALID);
    ck_assert_status(mtask_limit_end(&outer), MTASK_OK);
    ck_assert_status(mtask_limit_end(&outer), MTASK_INVALID);
    ck_assert_status(mtask_loop_post(mtask_loop_current(), &call), MTASK_OK);
    ck_assert_status(mtask_event_wait(&event, LONG), MTASK_OK);
    return arg;
}

START_TEST(misuse_of_limits_is_refused) {
    mtask_limit limit;
    ck_assert_status(mtask_limit_begin(&limit, LONG), MTASK_INVALID);
    (void)in_loop(misuse_limits, NULL);
}
END_TEST

static void *wait_in_coroutine(void *arg) {
    ck_assert_status(mtask_sleep(LONG), MTASK_CANCELED);
    return arg;
}

static void *limit_a_coroutine(void *arg) {
    mtask_coro *coro = open_coro(wait_in_coroutine, NULL);
    mtask_limit limit;
    ck_assert_status(mtask_limit_begin(&limit, MTASK_US(200)), MTASK_OK);
    ck_assert_status(mtask_coro_resume(coro, NULL, NULL), MTASK_DONE);
    ck_assert_status(mtask_limit_end(&limit), MTASK_TIMEOUT);
    end_coro(coro);
    return arg;
}

START_TEST(a_limit_holds_in_the_coroutines_of_its_task) {
    (void)in_loop(limit_a_coroutine, NULL);
}
END_TEST

static void *shield_from_a_limit(void *arg) {
    mtask_limit limit, inner;
    ck_assert_status(mtask_limit_begin(&limit, MTASK_US(100)), MTASK_OK);
    mtask_shield_begin();
    ck_assert_status(mtask_sleep(MTASK_US(500)), MTASK_OK);
    ck_assert_status(mtask_limit_begin(&inner, MTASK_US(100)), MTASK_OK); /* of the clean-up */
    ck_assert_status(mtask_sleep(LONG), MTASK_CANCELED);
    ck_assert_status(mtask_limit_end(&inner), MTASK_TIMEOUT);
    ck_assert_status(mtask_sleep(MTASK_US(50)), MTASK_OK);
    mtask_shield_end();
    ck_assert_status(mtask_sleep(LONG), MTASK_CANCELED);
    ck_assert_status(mtask_limit_end(&limit), MTASK_TIMEOUT);
    return arg;
}

START_TEST(a_shield_holds_off_the_limits_around_it) {
    (void)in_loop(shield_from_a_limit, NULL);
}
END_TEST

static void *sleep_within_limit(void *arg) {
    mtask_limit limit;
    ck_assert_status(mtask_limit_begin(&limit, LONG), MTASK_OK);
    ck_assert_status(mtask_sleep(LONG), MTASK_CANCELED);
    ck_assert_status(mtask_limit_end(&limit), MTASK_OK); /* it was not the limit */
    ck_assert(mtask_canceled());
    ck_assert_status(mtask_limit_begin(&limit, 0), MTASK_OK);
    ck_assert_status(mtask_sleep(LONG), MTASK_CANCELED);
    (void)mtask_limit_end(&limit); /* both had reason to */
    ck_assert_status(mtask_sleep(LONG), MTASK_CANCELED);
    return arg;
}

static void *cancel_within_limit(void *arg) {
    mtask_future *future = go(sleep_within_limit, NULL);
    take_turns();
    cancel(future);
    (void)take(future);
    return arg;
}

START_TEST(a_limit_does_not_claim_what_a_cancellation_did) {
    (void)in_loop(cancel_within_limit, NULL);
}
END_TEST

/* ---- with_timeout ---- */

static void *return_arg(void *arg) {
    return arg;
}

static void *sleep_and_return(void *arg) {
    ck_assert_status(mtask_sleep(LONG), MTASK_CANCELED);
    return arg;
}

static void *sleep_and_fail(void *arg) {
    ck_assert_status(mtask_sleep(LONG), MTASK_CANCELED);
    (void)arg;
    return mtask_fail(MTASK_CANCELED, "no time left");
}

static void *fail_at_once(void *arg) {
    (void)arg;
    return mtask_fail(MTASK_NOT_FOUND, "nothing there");
}

static void *be_late_but_never_wait(void *arg) {
    compute_for(MTASK_US(300));
    return arg;
}

static void check_outcome(const mtask_outcome *outcome, mtask_status status, const void *value,
                          const char *text) {
    ck_assert_status(outcome->status, status);
    ck_assert_ptr_eq(outcome->value, value);
    ck_assert_str_eq(outcome->text, text);
}

static void *call_with_timeouts(void *arg) {
    mtask_outcome outcome;
    int64_t start = mtask_now();
    ck_assert_status(mtask_with_timeout(LONG, return_arg, arg, &outcome), MTASK_OK);
    check_outcome(&outcome, MTASK_OK, arg, "");
    ck_assert_status(mtask_with_timeout(LONG, fail_at_once, arg, &outcome), MTASK_FAILED);
    check_outcome(&outcome, MTASK_NOT_FOUND, NULL, "nothing there");
    ck_assert_status(mtask_with_timeout(MTASK_MS(1), sleep_and_return, arg, &outcome),
                     MTASK_TIMEOUT);
    ck_assert_int_ge(mtask_now() - start, MTASK_MS(1));
    check_outcome(&outcome, MTASK_OK, arg, "");
    ck_assert_status(mtask_with_timeout(MTASK_US(100), sleep_and_fail, arg, &outcome),
                     MTASK_TIMEOUT);
    check_outcome(&outcome, MTASK_CANCELED, NULL, "no time left");
    ck_assert_status(mtask_with_timeout(MTASK_US(100), be_late_but_never_wait, arg, &outcome),
                     MTASK_OK);
    check_outcome(&outcome, MTASK_OK, arg, "");
    ck_assert_status(mtask_with_timeout(0, return_arg, arg, NULL), MTASK_OK);
    ck_assert_status(mtask_with_timeout(0, sleep_and_return, arg, NULL), MTASK_TIMEOUT);
    ck_assert_status(mtask_with_timeout(MTASK_FOREVER, fail_at_once, arg, NULL), MTASK_FAILED);
    ck_assert_status(mtask_with_timeout(-1, return_arg, arg, NULL), MTASK_INVALID);
    ck_assert_status(mtask_sleep(MTASK_US(50)), MTASK_OK);
    return arg;
}

START_TEST(a_function_can_be_given_a_limit) {
    ck_assert_status(mtask_with_timeout(LONG, return_arg, NULL, NULL), MTASK_INVALID);
    (void)in_loop(call_with_timeouts, &stage);
}
END_TEST

static void *call_nested(void *arg) {
    ck_assert_status(mtask_with_timeout(*(int64_t *)arg, sleep_and_return, NULL, NULL),
                     *(int64_t *)arg == LONG ? MTASK_OK : MTASK_TIMEOUT);
    return arg;
}

static void *call_with_nested_timeouts(void *arg) {
    int64_t inner = LONG;
    ck_assert_status(mtask_with_timeout(MTASK_US(200), call_nested, &inner, NULL), MTASK_TIMEOUT);
    inner = MTASK_US(200);
    ck_assert_status(mtask_with_timeout(LONG, call_nested, &inner, NULL), MTASK_OK);
    return arg;
}

START_TEST(functions_with_limits_nest) {
    (void)in_loop(call_with_nested_timeouts, NULL);
}
END_TEST

/* Many tasks, each with limits of its own. */
static void *live_within_limits(void *arg) {
    testing_random *random = (testing_random *)arg;
    for (int i = 0; i < 10; i++) {
        mtask_limit limit;
        int64_t time = (int64_t)testing_below(random, 400) * 1000;
        int64_t nap = (int64_t)testing_below(random, 400) * 1000;
        int64_t start = mtask_now();
        mtask_status slept, ended;
        ck_assert_status(mtask_limit_begin(&limit, time), MTASK_OK);
        slept = mtask_sleep(nap);
        ended = mtask_limit_end(&limit);
        testing_check(mtask_now() - start >= (time < nap ? time : nap));
        testing_check((slept == MTASK_OK && ended == MTASK_OK) ||
                      (slept == MTASK_CANCELED && ended == MTASK_TIMEOUT));
        testing_check(slept == MTASK_CANCELED || mtask_now() - start >= nap);
    }
    return arg;
}

static void *live_together(void *arg) {
    mtask_future *futures[100];
    testing_random random = testing_random_make(testing_seed(), 0);
    for (long i = 0; i < COUNT_OF(futures); i++)
        futures[i] = go(live_within_limits, &random);
    for (long i = 0; i < COUNT_OF(futures); i++)
        (void)take(futures[i]);
    return arg;
}

START_TEST(many_tasks_have_limits_of_their_own) {
    (void)in_loop(live_together, NULL);
}
END_TEST

TESTING_MAIN("mtask_cancel", whatever_waits_is_cancelled, no_wait_of_a_cancelled_task_begins,
             careless_tasks_do_not_freeze_their_loop, a_yield_tells_of_the_cancellation_and_yields,
             what_need_not_wait_does_not_look, what_takes_no_timeout_is_no_cancellation_point,
             behind_a_shield_nothing_is_cancelled, shields_nest_and_hold_back_what_comes_meanwhile,
             woken_beats_cancelled_and_nothing_is_lost,
             who_was_released_by_an_event_is_not_cancelled,
             waiters_that_give_up_leave_the_token_to_others,
             a_cancelled_waiter_of_a_condition_has_its_lock_back,
             a_cancelled_party_breaks_the_barrier, waits_may_block_the_thread,
             a_limit_cuts_waits_short, a_limit_that_is_not_reached_does_nothing,
             whatever_waits_is_cut_short_by_a_limit,
             a_limit_that_passes_while_nothing_waits_fails_nothing, a_limit_cuts_yields_short,
             limits_nest, several_limits_may_have_passed,
             a_limit_can_be_set_again_until_it_is_reached,
             an_outer_limit_can_be_set_from_within_an_inner_one, misuse_of_limits_is_refused,
             a_limit_holds_in_the_coroutines_of_its_task, a_shield_holds_off_the_limits_around_it,
             a_limit_does_not_claim_what_a_cancellation_did, a_function_can_be_given_a_limit,
             functions_with_limits_nest, many_tasks_have_limits_of_their_own)
