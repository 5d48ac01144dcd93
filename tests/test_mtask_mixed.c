/* test_mtask_mixed.c - every call that waits, made in a task: it parks the task and not the thread

   A row of the table below is a call, and what makes it wait and end. A scene is a row played: one
   or two tasks of a loop wait in it, while a waker, a sibling of theirs or a task of another loop
   or a plain thread or another process, has seen that the loop goes on, and then wakes them, or
   cancels the first of them, or lets its time run out. */
#include "testing_coro.h"
#include "testing_queue.h"
#include "testing_pool.h"

#include <errno.h>
#include <limits.h>
#include <sys/mman.h>
#include <sys/wait.h>

#if TESTING_TSAN
/* The robust lock is a pthread mutex, which one thread locks for several tasks, and TSan does not
   see the other processes. */
const char *__tsan_default_options(void);
const char *__tsan_default_options(void) {
    return "report_mutex_bugs=0:report_destroy_locked=0";
}
#endif

#define FUTURES  20 /* more than mtask_futures_wait has room for without memory */
#define CAPACITY 4  /* of queues that are shared, at most */
#define TIME_OUT MTASK_MS(2)
#define LONG     MTASK_SEC(25) /* longer than a test takes, but not for ever */

/* ---- what is waited for ---- */

/* One of everything; a scene uses what its call needs. */
typedef struct object {
    MTASK_QUEUE_STORAGE(storage, CAPACITY, sizeof(long));
    int flags; /* MTASK_PRIVATE or MTASK_SHARED */
    mtask_queue_kind kind;
    size_t capacity;
    mtask_word word;
    mtask_mutex mutex;
    mtask_rmutex rmutex;
    mtask_cond cond;
    mtask_sem sem;
    mtask_event event;
    mtask_barrier barrier;
    mtask_rwlock rwlock;
    mtask_once_flag once;
    mtask_waitgroup waitgroup;
    mtask_shared_mutex robust;
    bool told; /* the predicate of the conditions */
    mtask_future *futures[FUTURES];
    size_t count; /* of futures */
    mtask_thread thread;
    mtask_timer timer;
    mtask_queue queue;
    mtask_pool *pool;
    mtask_group group;
    mtask_imap *imap;
    mtask_completed *completed;
    mtask_event gate;   /* threads and workers wait here */
    mtask_word running; /* one of them does */
} object;

static void *pass_gate(void *arg) {
    object *o = (object *)arg;
    mtask_word_store(&o->running, 1);
    ck_assert_status(mtask_event_wait(&o->gate, MTASK_FOREVER), MTASK_OK);
    return NULL;
}

static void open_gate(object *o) {
    mtask_event_set(&o->gate);
}

/* Waits, in a task or not, until the word holds at least `value`. */
static void await(const mtask_word *word, mtask_word value) {
    while (mtask_word_load(word) < value)
        ck_assert_status(mtask_sleep(MTASK_US(20)), MTASK_OK);
}

/* ---- words and locks ---- */

static mtask_status wait_word(object *o, int64_t timeout) {
    int64_t end = mtask_deadline(timeout);
    mtask_status status = MTASK_OK;
    while (status == MTASK_OK && mtask_word_load(&o->word) == 0)
        status = mtask_word_wait(&o->word, 0, mtask_until(end), o->flags);
    return status;
}

static void wake_word(object *o) {
    mtask_word_store(&o->word, 1);
    (void)mtask_word_wake(&o->word, INT_MAX, o->flags);
}

/* A lock that it got it gives back. */
static mtask_status mutex_got(object *o, mtask_status status) {
    if (status == MTASK_OK)
        ck_assert_status(mtask_mutex_unlock(&o->mutex), MTASK_OK);
    return status;
}

static mtask_status wait_mutex(object *o, int64_t timeout) {
    (void)timeout;
    return mutex_got(o, mtask_mutex_lock(&o->mutex));
}

static mtask_status wait_mutex_for(object *o, int64_t timeout) {
    return mutex_got(o, mtask_mutex_lock_for(&o->mutex, timeout < LONG ? timeout : LONG));
}

static void hold_mutex(object *o) {
    ck_assert_status(mtask_mutex_lock(&o->mutex), MTASK_OK);
}

static void wake_mutex(object *o) {
    ck_assert_status(mtask_mutex_unlock(&o->mutex), MTASK_OK);
}

static mtask_status rmutex_got(object *o, mtask_status status) {
    if (status == MTASK_OK)
        ck_assert_status(mtask_rmutex_unlock(&o->rmutex), MTASK_OK);
    return status;
}

static mtask_status wait_rmutex(object *o, int64_t timeout) {
    (void)timeout;
    return rmutex_got(o, mtask_rmutex_lock(&o->rmutex));
}

static mtask_status wait_rmutex_for(object *o, int64_t timeout) {
    return rmutex_got(o, mtask_rmutex_lock_for(&o->rmutex, timeout < LONG ? timeout : LONG));
}

static void hold_rmutex(object *o) {
    ck_assert_status(mtask_rmutex_lock(&o->rmutex), MTASK_OK);
    ck_assert_status(mtask_rmutex_lock(&o->rmutex), MTASK_OK);
}

static void wake_rmutex(object *o) {
    ck_assert_status(mtask_rmutex_unlock(&o->rmutex), MTASK_OK);
    ck_assert_status(mtask_rmutex_unlock(&o->rmutex), MTASK_OK);
}

static mtask_status robust_got(object *o, mtask_status status) {
    if (status == MTASK_OK)
        ck_assert_status(mtask_shared_mutex_unlock(&o->robust), MTASK_OK);
    return status;
}

static mtask_status wait_robust(object *o, int64_t timeout) {
    (void)timeout;
    return robust_got(o, mtask_shared_mutex_lock(&o->robust));
}

static mtask_status wait_robust_for(object *o, int64_t timeout) {
    return robust_got(o, mtask_shared_mutex_lock_for(&o->robust, timeout < LONG ? timeout : LONG));
}

static void open_robust(object *o) {
    ck_assert_status(mtask_shared_mutex_init(&o->robust), MTASK_OK);
}

static void hold_robust(object *o) {
    ck_assert_status(mtask_shared_mutex_lock(&o->robust), MTASK_OK);
}

static void wake_robust(object *o) {
    ck_assert_status(mtask_shared_mutex_unlock(&o->robust), MTASK_OK);
}

static void close_robust(object *o) {
    ck_assert_status(mtask_shared_mutex_deinit(&o->robust), MTASK_OK);
}

static mtask_status read_got(object *o, mtask_status status) {
    if (status == MTASK_OK)
        ck_assert_status(mtask_rwlock_unlock_read(&o->rwlock), MTASK_OK);
    return status;
}

static mtask_status wait_read(object *o, int64_t timeout) {
    (void)timeout;
    return read_got(o, mtask_rwlock_lock_read(&o->rwlock));
}

static mtask_status wait_read_for(object *o, int64_t timeout) {
    return read_got(o, mtask_rwlock_lock_read_for(&o->rwlock, timeout < LONG ? timeout : LONG));
}

static void hold_write(object *o) {
    ck_assert_status(mtask_rwlock_lock_write(&o->rwlock), MTASK_OK);
}

static void wake_write(object *o) {
    ck_assert_status(mtask_rwlock_unlock_write(&o->rwlock), MTASK_OK);
}

static mtask_status write_got(object *o, mtask_status status) {
    if (status == MTASK_OK)
        wake_write(o);
    return status;
}

static mtask_status wait_write(object *o, int64_t timeout) {
    (void)timeout;
    return write_got(o, mtask_rwlock_lock_write(&o->rwlock));
}

static mtask_status wait_write_for(object *o, int64_t timeout) {
    return write_got(o, mtask_rwlock_lock_write_for(&o->rwlock, timeout < LONG ? timeout : LONG));
}

static void hold_read(object *o) {
    ck_assert_status(mtask_rwlock_lock_read(&o->rwlock), MTASK_OK);
}

static void wake_read(object *o) {
    ck_assert_status(mtask_rwlock_unlock_read(&o->rwlock), MTASK_OK);
}

static void open_locks(object *o) {
    ck_assert_status(mtask_mutex_init(&o->mutex, o->flags), MTASK_OK);
    ck_assert_status(mtask_rmutex_init(&o->rmutex, o->flags), MTASK_OK);
    ck_assert_status(mtask_rwlock_init(&o->rwlock, o->flags), MTASK_OK);
    ck_assert_status(mtask_cond_init(&o->cond, o->flags), MTASK_OK);
}

/* ---- conditions ---- */

static mtask_status wait_cond(object *o, int64_t timeout) {
    mtask_status status = MTASK_OK;
    ck_assert_status(mtask_mutex_lock(&o->mutex), MTASK_OK);
    if (!o->told)
        status = mtask_cond_wait(&o->cond, &o->mutex, timeout);
    testing_check(status != MTASK_OK || o->told); /* nobody wakes for no reason */
    ck_assert_status(mtask_mutex_unlock(&o->mutex), MTASK_OK);
    return status;
}

static mtask_status wait_cond_for(object *o, int64_t timeout) {
    mtask_status status;
    ck_assert_status(mtask_mutex_lock(&o->mutex), MTASK_OK);
    MTASK_COND_WAIT_FOR(status, &o->cond, &o->mutex, timeout, o->told);
    ck_assert_status(mtask_mutex_unlock(&o->mutex), MTASK_OK);
    return status;
}

static mtask_status wait_cond_rmutex(object *o, int64_t timeout) {
    mtask_status status = MTASK_OK;
    hold_rmutex(o);
    if (!o->told)
        status = mtask_cond_wait_rmutex(&o->cond, &o->rmutex, timeout);
    testing_check(mtask_rmutex_count(&o->rmutex) == 2);
    wake_rmutex(o);
    return status;
}

/* One wake-up for one waiter, so that a scene notices if another one swallows it. */
static void wake_cond(object *o) {
    hold_mutex(o);
    o->told = true;
    ck_assert_status(mtask_cond_notify(&o->cond, 1), MTASK_OK);
    wake_mutex(o);
}

static void wake_cond_rmutex(object *o) {
    hold_rmutex(o);
    o->told = true;
    ck_assert_status(mtask_cond_notify(&o->cond, 1), MTASK_OK);
    wake_rmutex(o);
}

/* ---- the other primitives ---- */

static void open_sem(object *o) {
    ck_assert_status(mtask_sem_init(&o->sem, 0, 0, o->flags), MTASK_OK);
}

static mtask_status wait_sem(object *o, int64_t timeout) {
    return mtask_sem_acquire(&o->sem, timeout);
}

static void wake_sem(object *o) {
    ck_assert_status(mtask_sem_release(&o->sem, 1), MTASK_OK);
}

static void open_event(object *o) {
    ck_assert_status(mtask_event_init(&o->event, o->flags), MTASK_OK);
}

static mtask_status wait_event(object *o, int64_t timeout) {
    return mtask_event_wait(&o->event, timeout);
}

static void wake_event(object *o) {
    mtask_event_set(&o->event);
}

static void open_barrier(object *o) {
    ck_assert_status(mtask_barrier_init(&o->barrier, 2, NULL, NULL, o->flags), MTASK_OK);
}

static mtask_status wait_barrier(object *o, int64_t timeout) {
    return mtask_barrier_wait(&o->barrier, NULL, timeout);
}

static void wake_barrier(object *o) {
    (void)mtask_barrier_wait(&o->barrier, NULL, MTASK_FOREVER); /* after a time-out it is broken */
}

static void open_once(object *o) {
    ck_assert_status(mtask_once_init(&o->once, o->flags), MTASK_OK);
}

static void *not_again(void *arg) {
    testing_check(arg == NULL);
    return arg;
}

static mtask_status wait_once(object *o, int64_t timeout) {
    (void)timeout;
    return mtask_once(&o->once, not_again, o);
}

static void open_waitgroup(object *o) {
    ck_assert_status(mtask_waitgroup_init(&o->waitgroup, o->flags), MTASK_OK);
    ck_assert_status(mtask_waitgroup_add(&o->waitgroup, 1), MTASK_OK);
}

static mtask_status wait_waitgroup(object *o, int64_t timeout) {
    return mtask_waitgroup_wait(&o->waitgroup, timeout);
}

static void wake_waitgroup(object *o) {
    ck_assert_status(mtask_waitgroup_done(&o->waitgroup), MTASK_OK);
}

/* ---- futures ---- */

static void open_futures(object *o, size_t count) {
    for (o->count = 0; o->count < count; o->count++)
        ck_assert_status(mtask_future_create(&o->futures[o->count], NULL), MTASK_OK);
}

static void open_few(object *o) {
    open_futures(o, 3);
}

static void open_many(object *o) {
    open_futures(o, FUTURES);
}

static void close_futures(object *o) {
    while (o->count > 0)
        mtask_future_release(o->futures[--o->count]);
}

static mtask_status wait_future(object *o, int64_t timeout) {
    return mtask_future_wait(o->futures[0], timeout);
}

static mtask_status wait_get(object *o, int64_t timeout) {
    mtask_outcome outcome;
    mtask_status status = mtask_future_get(o->futures[0], &outcome, timeout);
    testing_check(status != MTASK_OK || outcome.value == o);
    return status;
}

static mtask_status wait_all(object *o, int64_t timeout) {
    return mtask_futures_wait(o->futures, o->count, MTASK_WAIT_ALL, timeout);
}

static mtask_status wait_any(object *o, int64_t timeout) {
    return mtask_futures_wait(o->futures, o->count, MTASK_WAIT_ANY, timeout);
}

static mtask_status wait_failure(object *o, int64_t timeout) {
    return mtask_futures_wait(o->futures, o->count, MTASK_WAIT_FIRST_FAILURE, timeout);
}

static void wake_futures(object *o) {
    for (size_t i = o->count; i-- > 0;)
        ck_assert_status(mtask_future_set(o->futures[i], o), MTASK_OK);
}

static void wake_last(object *o) {
    ck_assert_status(mtask_future_set(o->futures[o->count - 1], o), MTASK_OK);
}

static void wake_failure(object *o) {
    ck_assert_status(mtask_future_fail(o->futures[1], MTASK_BROKEN, NULL), MTASK_OK);
}

static void open_completed(object *o) {
    open_few(o);
    ck_assert_status(mtask_as_completed(o->futures, o->count, &o->completed), MTASK_OK);
}

static mtask_status wait_completed(object *o, int64_t timeout) {
    mtask_future *future;
    mtask_status status = mtask_completed_next(o->completed, &future, NULL, timeout);
    testing_check(status != MTASK_OK || future == o->futures[o->count - 1]);
    return status;
}

static void close_completed(object *o) {
    mtask_completed_close(o->completed);
    close_futures(o);
}

/* ---- threads and timers ---- */

static void open_thread(object *o) {
    ck_assert_status(mtask_thread_start(&o->thread, pass_gate, o), MTASK_OK);
}

static mtask_status wait_thread(object *o, int64_t timeout) {
    return mtask_thread_join(&o->thread, NULL, timeout);
}

static mtask_status wait_threads(object *o, int64_t timeout) {
    (void)o;
    return mtask_thread_join_all(timeout);
}

static void close_thread(object *o) {
    ck_assert_status(mtask_thread_join(&o->thread, NULL, MTASK_FOREVER), MTASK_OK);
}

static void open_timer(object *o) {
    ck_assert_status(mtask_timer_start(&o->timer, 0, pass_gate, o), MTASK_OK);
    await(&o->running, 1);
}

static mtask_status wait_timer(object *o, int64_t timeout) {
    mtask_status status = mtask_timer_cancel(&o->timer, timeout);
    testing_check(status != MTASK_OK); /* it runs */
    return status == MTASK_DONE ? MTASK_OK : status;
}

static void close_timer(object *o) {
    ck_assert_status(mtask_timer_cancel(&o->timer, MTASK_FOREVER), MTASK_DONE);
}

/* ---- queues ---- */

static bool in_child;

/* The handle of the calling process on the queue. */
static mtask_queue *queue_of(object *o) {
    static mtask_queue far;
    mtask_queue_desc desc = {0};
    if (!in_child)
        return &o->queue;
    memset(&far, 0, sizeof far);
    desc.storage = o->storage;
    desc.storage_size = sizeof o->storage;
    desc.compare = o->kind == MTASK_PRIORITY ? by_long : NULL;
    ck_assert_status(mtask_queue_attach(&far, &desc), MTASK_OK);
    return &far;
}

static void open_queue(object *o) {
    mtask_queue_desc desc = {0};
    desc.kind = o->kind;
    desc.capacity = o->capacity;
    desc.item_size = sizeof(long);
    desc.compare = o->kind == MTASK_PRIORITY ? by_long : NULL;
    desc.flags = o->flags;
    desc.storage = o->flags == MTASK_SHARED ? o->storage : NULL;
    desc.storage_size = o->flags == MTASK_SHARED ? sizeof o->storage : 0;
    ck_assert_status(mtask_queue_init(&o->queue, &desc), MTASK_OK);
}

static void open_full(object *o) {
    open_queue(o);
    for (size_t i = 0; i < o->capacity; i++)
        put_long(&o->queue, 1);
}

static void open_one(object *o) {
    open_queue(o);
    put_long(&o->queue, 1);
}

static void close_queue(object *o) {
    ck_assert_status(mtask_queue_deinit(&o->queue), MTASK_OK);
}

static mtask_status wait_put(object *o, int64_t timeout) {
    long item = 2;
    return mtask_queue_put(queue_of(o), &item, timeout);
}

static mtask_status wait_get_item(object *o, int64_t timeout) {
    long item;
    return mtask_queue_get(queue_of(o), &item, timeout);
}

static mtask_status wait_put_many(object *o, int64_t timeout) {
    long items[2] = {2, 3};
    size_t moved;
    mtask_status status = mtask_queue_put_many(queue_of(o), items, 2, &moved, timeout);
    testing_check(moved == (status == MTASK_OK ? 2 : 0));
    return status;
}

static mtask_status wait_get_many(object *o, int64_t timeout) {
    long items[3];
    size_t moved;
    mtask_status status = mtask_queue_get_many(queue_of(o), items, 3, &moved, timeout);
    testing_check((moved > 0) == (status == MTASK_OK));
    return status;
}

static mtask_status wait_select(object *o, mtask_queue_op op, int64_t timeout) {
    mtask_queue_case cases[2];
    size_t fired;
    long item = 2;
    mtask_status status;
    memset(cases, 0, sizeof cases);
    cases[1].queue = queue_of(o);
    cases[1].op = op;
    cases[1].item = &item;
    status = mtask_queue_select(cases, 2, &fired, timeout);
    testing_check(fired == (status == MTASK_OK || status == MTASK_CLOSED ? 1 : 2));
    return status;
}

static mtask_status wait_select_get(object *o, int64_t timeout) {
    return wait_select(o, MTASK_GET, timeout);
}

static mtask_status wait_select_put(object *o, int64_t timeout) {
    return wait_select(o, MTASK_PUT, timeout);
}

static mtask_status wait_queue_join(object *o, int64_t timeout) {
    return mtask_queue_join(queue_of(o), timeout);
}

static mtask_status closed(mtask_status status) {
    testing_check(status != MTASK_OK);
    return status == MTASK_CLOSED ? MTASK_OK : status;
}

static mtask_status wait_put_closed(object *o, int64_t timeout) {
    return closed(wait_put(o, timeout));
}

static mtask_status wait_get_closed(object *o, int64_t timeout) {
    return closed(wait_get_item(o, timeout));
}

static mtask_status wait_select_closed(object *o, int64_t timeout) {
    return closed(wait_select_get(o, timeout));
}

static void wake_by_put(object *o) {
    put_long(queue_of(o), 4);
}

static void wake_by_get(object *o) {
    (void)get_long(queue_of(o));
}

/* Two places; the second one may have to be filled first. */
static void wake_by_gets(object *o) {
    long item;
    mtask_queue *queue = queue_of(o);
    for (int i = 0; i < 2; i++)
        ck_assert_status(mtask_queue_get(queue, &item, MTASK_FOREVER), MTASK_OK);
}

static void wake_by_done(object *o) {
    (void)get_long(queue_of(o));
    ck_assert_status(mtask_queue_task_done(queue_of(o)), MTASK_OK);
}

static void wake_by_close(object *o) {
    ck_assert_status(mtask_queue_close(queue_of(o)), MTASK_OK);
}

/* ---- pools: of one worker, which waits at the gate ---- */

static void close_pool(object *o) {
    ck_assert_status(mtask_pool_destroy(o->pool), MTASK_OK);
}

static void open_busy(object *o, size_t backlog) {
    mtask_pool_desc desc = {.workers = 1, .backlog = backlog};
    ck_assert_status(mtask_pool_create(&o->pool, &desc), MTASK_OK);
    ck_assert_status(mtask_pool_post(o->pool, pass_gate, o), MTASK_OK);
    await(&o->running, 1);
}

static void open_backlog(object *o) {
    open_busy(o, 1);
    ck_assert_status(mtask_pool_post(o->pool, pass_gate, o), MTASK_OK);
}

static mtask_status wait_submit(object *o, int64_t timeout) {
    mtask_task_desc desc = {.fn = pass_gate, .arg = o};
    return mtask_pool_submit_ex(o->pool, &desc, NULL, timeout);
}

static mtask_status wait_post(object *o, int64_t timeout) {
    (void)timeout;
    return mtask_pool_post(o->pool, pass_gate, o);
}

static void open_work(object *o) {
    o->pool = open_pool(1);
    ck_assert_status(mtask_pool_submit(o->pool, pass_gate, o, &o->futures[0]), MTASK_OK);
    o->count = 1;
}

static void close_work(object *o) {
    close_futures(o);
    close_pool(o);
}

static void open_group(object *o) {
    o->pool = open_pool(1);
    ck_assert_status(mtask_group_init(&o->group, o->pool, 0), MTASK_OK);
    ck_assert_status(mtask_group_post(&o->group, pass_gate, o), MTASK_OK);
}

static mtask_status wait_group(object *o, int64_t timeout) {
    return mtask_group_wait(&o->group, NULL, timeout);
}

static void close_group(object *o) {
    ck_assert_status(mtask_group_wait(&o->group, NULL, MTASK_FOREVER), MTASK_OK);
    close_pool(o);
}

static void open_closed(object *o) {
    open_busy(o, 0);
    ck_assert_status(mtask_pool_close(o->pool), MTASK_OK);
}

static mtask_status wait_pool_join(object *o, int64_t timeout) {
    return mtask_pool_join(o->pool, timeout);
}

static mtask_status wait_pool_end(object *o, int64_t timeout) {
    (void)timeout;
    return mtask_pool_destroy(o->pool);
}

static void open_idle(object *o) {
    o->pool = open_pool(1);
}

static void gate_item(const void *in, void *out, void *ctx) {
    (void)in;
    (void)out;
    (void)pass_gate(ctx);
}

static void gate_part(size_t begin, size_t end, void *ctx) {
    (void)begin;
    (void)end;
    (void)pass_gate(ctx);
}

static mtask_status wait_map(object *o, int64_t timeout) {
    mtask_map_desc desc = {.fn = gate_item, .ctx = o, .count = 3};
    (void)timeout;
    return mtask_pool_map(o->pool, &desc, NULL);
}

static mtask_status wait_for(object *o, int64_t timeout) {
    (void)timeout;
    return mtask_pool_for(o->pool, 0, 3, gate_part, o);
}

static void gate_fold(size_t begin, size_t end, void *into, void *ctx) {
    *(size_t *)into += end - begin;
    (void)pass_gate(ctx);
}

static void gate_combine(void *into, const void *later, void *ctx) {
    *(size_t *)into += *(const size_t *)later;
    (void)ctx;
}

static mtask_status wait_reduce(object *o, int64_t timeout) {
    static const size_t zero = 0;
    size_t sum = 0;
    mtask_status status;
    mtask_for_desc desc = {.end = 3, .fold = gate_fold, .combine = gate_combine};
    (void)timeout;
    desc.identity = &zero;
    desc.size = sizeof zero;
    desc.ctx = o;
    status = mtask_pool_reduce(o->pool, &desc, &sum, NULL);
    testing_check(status != MTASK_OK || sum == 3);
    return status;
}

static mtask_status gate_input(void *in, void *ctx) {
    (void)in;
    (void)pass_gate(ctx);
    return MTASK_OK;
}

static void open_imap(object *o) {
    mtask_imap_desc desc = {.fn = gate_item, .input = gate_input, .ctx = o};
    o->pool = open_pool(1);
    ck_assert_status(mtask_pool_imap(o->pool, &desc, &o->imap), MTASK_OK);
    await(&o->running, 1);
}

static void open_unordered(object *o) {
    mtask_imap_desc desc = {.fn = gate_item, .input = gate_input, .ctx = o};
    o->pool = open_pool(1);
    ck_assert_status(mtask_pool_imap_unordered(o->pool, &desc, &o->imap), MTASK_OK);
}

static mtask_status wait_imap(object *o, int64_t timeout) {
    mtask_item item;
    return mtask_imap_next(o->imap, &item, timeout);
}

static mtask_status wait_imap_end(object *o, int64_t timeout) {
    (void)timeout;
    mtask_imap_close(o->imap);
    o->imap = NULL;
    return MTASK_OK;
}

static void close_imap(object *o) {
    mtask_imap_close(o->imap);
    close_pool(o);
}

/* ---- scenes ---- */

enum {                /* what is peculiar to a call */
       TIMELESS = 1,  /* it has no time-out */
       SURE = 2,      /* it is no cancellation point */
       ALONE = 4,     /* one task at a time may wait in it */
       SPOILED = 8,   /* a wait that ends otherwise ends it for all */
       RUNS = 16,     /* it has begun to wait when something runs */
       THREADED = 32, /* the holder is a thread: no task of the same loop can wake */
       SHARED = 64    /* it works between processes */
};

/* A call, and how it is made to wait. */
typedef struct call {
    const char *name;
    void (*open)(object *o); /* NULL: zeroes will do */
    void (*hold)(object *o); /* what the waker does before it is waited; NULL: nothing */
    mtask_status (*wait)(object *o, int64_t timeout);
    void (*wake)(object *o);
    void (*close)(object *o);
    mtask_status over; /* what it says when its time is up */
    int flags;
} call;

typedef enum origin { SIBLING, OTHER_LOOP, PLAIN_THREAD, PROCESS } origin;
typedef enum mode { WOKEN, TIMED, CANCELED } mode;

struct scene;

typedef struct waiter {
    struct scene *scene;
    mtask_future *task;
    mtask_status status;
    int64_t when;  /* its wait ended */
    bool canceled; /* as it saw itself in the end */
    mtask_status after;
} waiter;

typedef struct scene {
    object object;
    const call *call;
    origin origin;
    mode mode;
    bool reverse;        /* the other process waits, and a task wakes it */
    unsigned count;      /* of waiters */
    mtask_word held;     /* the waker is ready */
    mtask_word started;  /* waiters that have */
    mtask_word ticks;    /* turns of another task since then */
    mtask_word over;     /* waiters whose time was up */
    mtask_word canceled; /* the first waiter is, and has been seen to wait on, if it must */
    mtask_word ended;    /* waiters that have */
    int64_t woken;       /* when the waker woke */
    waiter waiters[2];
} scene;

#define TICKS 3

/* Waits, and then, if that ended before time, waits again. */
static void *waiter_main(void *arg) {
    waiter *self = (waiter *)arg;
    scene *s = self->scene;
    (void)mtask_word_add(&s->started, 1);
    if (s->mode == TIMED) {
        int64_t begin = mtask_now();
        ck_assert_status(s->call->wait(&s->object, TIME_OUT), s->call->over);
        testing_check(mtask_now() - begin >= TIME_OUT);
        (void)mtask_word_add(&s->over, 1);
    }
    if (s->mode != TIMED || (s->call->flags & SPOILED) == 0)
        self->status = s->call->wait(&s->object, MTASK_FOREVER);
    self->when = mtask_now();
    self->canceled = mtask_canceled();
    (void)mtask_word_add(&s->ended, 1);
    self->after = mtask_yield();
    return NULL;
}

/* Shows that the loop goes on while all waiters are in the call. */
static void *tick(void *arg) {
    scene *s = (scene *)arg;
    while (mtask_word_load(&s->started) < s->count)
        take_turns();
    for (int i = 0; i < TICKS; i++) {
        (void)mtask_word_add(&s->ticks, 1);
        take_turns();
    }
    return NULL;
}

static void cancel_first(scene *s) {
    await(&s->ticks, TICKS);
    ck_assert_status(mtask_future_cancel(s->waiters[0].task), MTASK_OK);
    if ((s->call->flags & SURE) != 0) {
        ck_assert_status(mtask_sleep(MTASK_US(300)), MTASK_OK);
        testing_check(mtask_word_load(&s->ended) == 0); /* it waits on */
    }
    mtask_word_store(&s->canceled, 1);
}

/* What the waker does between hold and wake. */
static void stand_by(scene *s) {
    mtask_word_store(&s->held, 1);
    await(&s->ticks, TICKS);
    if ((s->call->flags & RUNS) != 0)
        await(&s->object.running, 1);
    if (s->reverse) /* it says that it has started before it waits */
        ck_assert_status(mtask_sleep(MTASK_MS(1)), MTASK_OK);
    if (s->mode == TIMED)
        await(&s->over, 1);
    if (s->mode == CANCELED && s->origin != PROCESS)
        cancel_first(s);
    if (s->mode == CANCELED)
        await((s->call->flags & SURE) != 0 ? &s->canceled : &s->ended, 1);
}

static void *stand_by_once(void *arg) {
    stand_by((scene *)arg);
    return NULL;
}

static void *waker_main(void *arg) {
    scene *s = (scene *)arg;
    object *o = &s->object;
    if (s->call->wait == wait_once) {
        ck_assert_status(mtask_once(&o->once, stand_by_once, s), MTASK_OK);
        return NULL;
    }
    if (s->call->hold != NULL)
        s->call->hold(o);
    stand_by(s);
    s->woken = mtask_now();
    s->call->wake(o);
    return NULL;
}

static void waker_thread(testing_member *self) {
    scene *s = (scene *)self->arg;
    if (s->origin == OTHER_LOOP)
        (void)in_loop(waker_main, s);
    else
        (void)waker_main(s);
}

static void end_task(mtask_future *task) {
    if (task == NULL)
        return;
    ck_assert_status(mtask_future_wait(task, MTASK_FOREVER), MTASK_OK);
    mtask_future_release(task);
}

/* The first task of the loop: starts the others. */
static void *scene_main(void *arg) {
    scene *s = (scene *)arg;
    mtask_future *waker = s->origin == SIBLING ? go(waker_main, s) : NULL;
    mtask_future *ticker;
    await(&s->held, 1);
    for (unsigned i = 0; i < s->count; i++) {
        s->waiters[i].scene = s;
        s->waiters[i].task = go(waiter_main, &s->waiters[i]);
    }
    ticker = go(tick, s);
    if (s->mode == CANCELED && s->origin == PROCESS)
        cancel_first(s);
    for (unsigned i = 0; i < s->count; i++)
        end_task(s->waiters[i].task);
    end_task(ticker);
    end_task(waker);
    return NULL;
}

/* How the first waiter, and the second, must have ended. */
static void check_scene(const scene *s) {
    bool canceled = s->mode == CANCELED;
    bool told = canceled && (s->call->flags & SURE) == 0;
    for (unsigned i = 0; i < s->count; i++) {
        const waiter *one = &s->waiters[i];
        ck_assert_status(one->status, told && i == 0 ? MTASK_CANCELED : MTASK_OK);
        testing_check(one->canceled == (canceled && i == 0));
        ck_assert_status(one->after, canceled && i == 0 ? MTASK_CANCELED : MTASK_OK);
    }
}

static bool allows(const call *c, origin from, mode how) {
    return !(from == SIBLING && (c->flags & THREADED) != 0) &&
           !(from == PROCESS && (c->flags & SHARED) == 0) &&
           !(how == TIMED && (c->flags & TIMELESS) != 0);
}

static void begin_scene(scene *s, const call *c, origin from, mode how) {
    bool alone = how != CANCELED || (c->flags & (ALONE | SPOILED)) != 0;
    s->call = c;
    s->origin = from;
    s->mode = how;
    s->count = alone ? 1 : 2;
    if (getenv("MTASK_TEST_TRACE") != NULL)
        fprintf(stderr, "%s, origin %d, mode %d\n", c->name, (int)from, (int)how);
    if (c->open != NULL)
        c->open(&s->object);
}

static void end_scene(scene *s) {
    check_scene(s);
    if (s->call->close != NULL)
        s->call->close(&s->object);
}

/* Plays it within this process. */
static void play_scene(const call *c, origin from, mode how, mtask_queue_kind kind,
                       size_t capacity) {
    static scene s;
    testing_crowd crowd;
    if (!allows(c, from, how))
        return;
    memset(&s, 0, sizeof s);
    s.object.kind = kind;
    s.object.capacity = capacity;
    begin_scene(&s, c, from, how);
    testing_crowd_start(&crowd, from == SIBLING ? 0 : 1, waker_thread, &s);
    (void)in_loop(scene_main, &s);
    testing_crowd_join(&crowd);
    end_scene(&s);
}

static void play_all(const call *calls, size_t count, mtask_queue_kind kind, size_t capacity) {
    for (size_t i = 0; i < count; i++)
        for (int from = SIBLING; from <= PLAIN_THREAD; from++)
            for (int how = WOKEN; how <= CANCELED; how++)
                play_scene(&calls[i], (origin)from, (mode)how, kind, capacity);
}

#define PLAY(calls) play_all((calls), sizeof(calls) / sizeof(calls)[0], MTASK_FIFO, 1)

/* ---- the calls ---- */

#define LOCK (TIMELESS | SURE | SHARED)

static const call locks[] = {
    {"word_wait", NULL, NULL, wait_word, wake_word, NULL, MTASK_TIMEOUT, SHARED},
    {"mutex_lock", open_locks, hold_mutex, wait_mutex, wake_mutex, NULL, MTASK_OK, LOCK},
    {"mutex_lock_for", open_locks, hold_mutex, wait_mutex_for, wake_mutex, NULL, MTASK_TIMEOUT,
     SHARED},
    {"rmutex_lock", open_locks, hold_rmutex, wait_rmutex, wake_rmutex, NULL, MTASK_OK, LOCK},
    {"rmutex_lock_for", open_locks, hold_rmutex, wait_rmutex_for, wake_rmutex, NULL, MTASK_TIMEOUT,
     SHARED},
    {"rwlock_lock_read", open_locks, hold_write, wait_read, wake_write, NULL, MTASK_OK, LOCK},
    {"rwlock_lock_read_for", open_locks, hold_write, wait_read_for, wake_write, NULL, MTASK_TIMEOUT,
     SHARED},
    {"rwlock_lock_write", open_locks, hold_read, wait_write, wake_read, NULL, MTASK_OK, LOCK},
    {"rwlock_lock_write_for", open_locks, hold_write, wait_write_for, wake_write, NULL,
     MTASK_TIMEOUT, SHARED},
    {"shared_mutex_lock", open_robust, hold_robust, wait_robust, wake_robust, close_robust,
     MTASK_OK, LOCK | THREADED},
    {"shared_mutex_lock_for", open_robust, hold_robust, wait_robust_for, wake_robust, close_robust,
     MTASK_TIMEOUT, SHARED | THREADED},
    {"cond_wait", open_locks, NULL, wait_cond, wake_cond, NULL, MTASK_TIMEOUT, 0},
    {"cond_wait_rmutex", open_locks, NULL, wait_cond_rmutex, wake_cond_rmutex, NULL, MTASK_TIMEOUT,
     0},
    {"COND_WAIT_FOR", open_locks, NULL, wait_cond_for, wake_cond, NULL, MTASK_TIMEOUT, SHARED},
    {"once", open_once, NULL, wait_once, NULL, NULL, MTASK_OK, LOCK},
};

static const call signals[] = {
    {"sem_acquire", open_sem, NULL, wait_sem, wake_sem, NULL, MTASK_TIMEOUT, SHARED},
    {"event_wait", open_event, NULL, wait_event, wake_event, NULL, MTASK_TIMEOUT, SHARED},
    {"barrier_wait", open_barrier, NULL, wait_barrier, wake_barrier, NULL, MTASK_TIMEOUT,
     SHARED | SPOILED},
    {"waitgroup_wait", open_waitgroup, NULL, wait_waitgroup, wake_waitgroup, NULL, MTASK_TIMEOUT,
     SHARED},
    {"future_wait", open_few, NULL, wait_future, wake_futures, close_futures, MTASK_TIMEOUT, 0},
    {"future_get", open_few, NULL, wait_get, wake_futures, close_futures, MTASK_TIMEOUT, 0},
    {"futures_wait all", open_few, NULL, wait_all, wake_futures, close_futures, MTASK_TIMEOUT, 0},
    {"futures_wait any", open_few, NULL, wait_any, wake_last, close_futures, MTASK_TIMEOUT, 0},
    {"futures_wait failure", open_few, NULL, wait_failure, wake_failure, close_futures,
     MTASK_TIMEOUT, 0},
    {"futures_wait all of many", open_many, NULL, wait_all, wake_futures, close_futures,
     MTASK_TIMEOUT, 0},
    {"futures_wait any of many", open_many, NULL, wait_any, wake_last, close_futures, MTASK_TIMEOUT,
     0},
    {"thread_join", open_thread, NULL, wait_thread, open_gate, close_thread, MTASK_TIMEOUT, 0},
    {"thread_join_all", open_thread, NULL, wait_threads, open_gate, close_thread, MTASK_TIMEOUT, 0},
    {"timer_cancel", open_timer, NULL, wait_timer, open_gate, close_timer, MTASK_TIMEOUT, 0},
};

static const call gets[] = {
    {"queue_get", open_queue, NULL, wait_get_item, wake_by_put, close_queue, MTASK_EMPTY, SHARED},
    {"queue_get_many", open_queue, NULL, wait_get_many, wake_by_put, close_queue, MTASK_EMPTY,
     SHARED},
    {"queue_select get", open_queue, NULL, wait_select_get, wake_by_put, close_queue, MTASK_TIMEOUT,
     SHARED},
    {"queue_join", open_one, NULL, wait_queue_join, wake_by_done, close_queue, MTASK_TIMEOUT,
     SHARED},
    {"queue_get, closed", open_queue, NULL, wait_get_closed, wake_by_close, close_queue,
     MTASK_EMPTY, SHARED},
    {"queue_select get, closed", open_queue, NULL, wait_select_closed, wake_by_close, close_queue,
     MTASK_TIMEOUT, SHARED},
};

static const call puts_[] = {
    {"queue_put", open_full, NULL, wait_put, wake_by_get, close_queue, MTASK_FULL, SHARED},
    {"queue_put_many", open_full, NULL, wait_put_many, wake_by_gets, close_queue, MTASK_FULL,
     SHARED},
    {"queue_select put", open_full, NULL, wait_select_put, wake_by_get, close_queue, MTASK_TIMEOUT,
     SHARED},
    {"queue_put, closed", open_full, NULL, wait_put_closed, wake_by_close, close_queue, MTASK_FULL,
     SHARED},
};

static const call pools[] = {
    {"pool_submit_ex", open_backlog, NULL, wait_submit, open_gate, close_pool, MTASK_FULL, 0},
    {"pool_post", open_backlog, NULL, wait_post, open_gate, close_pool, MTASK_OK, TIMELESS},
    {"future_get of a pool", open_work, NULL, wait_future, open_gate, close_work, MTASK_TIMEOUT, 0},
    {"futures_wait of a pool", open_work, NULL, wait_all, open_gate, close_work, MTASK_TIMEOUT, 0},
    {"group_wait", open_group, NULL, wait_group, open_gate, close_group, MTASK_TIMEOUT, ALONE},
    {"pool_join", open_closed, NULL, wait_pool_join, open_gate, close_pool, MTASK_TIMEOUT, 0},
    {"pool_destroy", open_closed, NULL, wait_pool_end, open_gate, NULL, MTASK_OK,
     TIMELESS | SURE | ALONE},
    {"pool_map", open_idle, NULL, wait_map, open_gate, close_pool, MTASK_OK,
     TIMELESS | SURE | RUNS | ALONE},
    {"pool_for", open_idle, NULL, wait_for, open_gate, close_pool, MTASK_OK,
     TIMELESS | SURE | RUNS | ALONE},
    {"pool_reduce", open_idle, NULL, wait_reduce, open_gate, close_pool, MTASK_OK,
     TIMELESS | SURE | RUNS | ALONE},
    {"imap_next", open_imap, NULL, wait_imap, open_gate, close_imap, MTASK_TIMEOUT, ALONE},
    {"imap_next unordered", open_unordered, NULL, wait_imap, open_gate, close_imap, MTASK_TIMEOUT,
     ALONE},
    {"imap_close", open_imap, NULL, wait_imap_end, open_gate, close_pool, MTASK_OK,
     TIMELESS | SURE | ALONE},
    {"completed_next", open_completed, NULL, wait_completed, wake_last, close_completed,
     MTASK_TIMEOUT, ALONE},
};

START_TEST(locks_and_conditions_park_the_task) {
    PLAY(locks);
}
END_TEST

START_TEST(signals_futures_and_threads_park_the_task) {
    PLAY(signals);
}
END_TEST

START_TEST(bounded_queues_park_the_task) {
    static const size_t capacities[] = {1, CAPACITY};
    for (int kind = 0; kind < KINDS; kind++)
        for (size_t i = 0; i < 2; i++) {
            play_all(gets, sizeof gets / sizeof *gets, (mtask_queue_kind)kind, capacities[i]);
            play_all(puts_, sizeof puts_ / sizeof *puts_, (mtask_queue_kind)kind, capacities[i]);
        }
}
END_TEST

START_TEST(unbounded_queues_park_the_task) {
    mtask_queue queue;
    mtask_queue_desc desc = {.capacity = MTASK_UNBOUNDED, .item_size = sizeof(long)};
    if (mtask_queue_init(&queue, &desc) == MTASK_UNSUPPORTED)
        return;
    ck_assert_status(mtask_queue_deinit(&queue), MTASK_OK);
    for (int kind = 0; kind < KINDS; kind++)
        play_all(gets, sizeof gets / sizeof *gets, (mtask_queue_kind)kind, MTASK_UNBOUNDED);
}
END_TEST

START_TEST(pools_park_the_task) {
    PLAY(pools);
}
END_TEST

/* ---- between processes ---- */

/* A scene in memory that two processes share. */
typedef struct stage {
    scene scene;
    mtask_word turn; /* scenes so far */
    mtask_word left; /* scenes that the other process is through with */
    int played;      /* scenes in which the other process woke a task, */
    int late;        /* and so late that the task may have looked again by itself */
    pid_t child;
} stage;

/* The other process plays its part in scene after scene. */
static void child_main(stage *shared) {
    in_child = true;
    for (mtask_word turn = 1;; turn++) {
        scene *s = &shared->scene;
        await(&shared->turn, turn);
        if (s->call == NULL)
            _exit(0);
        if (s->reverse) {
            await(&s->held, 1);
            (void)waiter_main(&s->waiters[0]);
        } else if (s->origin == PROCESS) {
            (void)waker_main(s);
        }
        mtask_word_store(&shared->left, turn);
    }
}

/* Starts the other process, before there is any thread that it would not have. */
static stage *open_stage(void) {
    pid_t child;
    stage *shared = (stage *)mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE,
                                  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    testing_check(shared != MAP_FAILED);
    child = fork();
    testing_check(child >= 0);
    if (child == 0)
        child_main(shared);
    shared->child = child; /* not by both */
    return shared;
}

static void close_stage(stage *shared) {
    int ended = -1;
    shared->scene.call = NULL;
    (void)mtask_word_add(&shared->turn, 1);
    testing_check(waitpid(shared->child, &ended, 0) == shared->child);
    testing_check(WIFEXITED(ended) && WEXITSTATUS(ended) == 0);
    testing_check(2 * shared->late <= shared->played); /* wakes are heard of */
    testing_check(munmap(shared, sizeof *shared) == 0);
}

/* The first task, where the other process waits. */
static void *reverse_main(void *arg) {
    scene *s = (scene *)arg;
    mtask_future *ticker = go(tick, s);
    end_task(go(waker_main, s));
    end_task(ticker);
    return NULL;
}

static void play_between(stage *shared, const call *c, origin from, mode how, bool reverse) {
    scene *s = &shared->scene;
    mtask_word turn = mtask_word_load(&shared->turn) + 1;
    testing_crowd crowd;
    if (!allows(c, from, how))
        return;
    memset(s, 0, sizeof *s);
    s->object.flags = MTASK_SHARED;
    s->object.capacity = 1 + turn % CAPACITY;
    s->object.kind = (mtask_queue_kind)(turn % KINDS);
    s->reverse = reverse;
    s->waiters[0].scene = s;
    begin_scene(s, c, from, how);
    mtask_word_store(&shared->turn, turn);
    testing_crowd_start(&crowd, from == SIBLING || from == PROCESS ? 0 : 1, waker_thread, s);
    (void)in_loop(reverse ? reverse_main : scene_main, s);
    testing_crowd_join(&crowd);
    await(&shared->left, turn);
    if (from == PROCESS && how == WOKEN && !reverse && s->woken != 0) {
        shared->played++;
        shared->late += s->waiters[0].when - s->woken > MTASK_MS(90);
    }
    end_scene(s);
}

/* Whether a task can wait for another process here. */
static bool can_wait_shared(void) {
    mtask_event event;
    mtask_status status = mtask_event_init(&event, MTASK_SHARED);
    if (status == MTASK_OK && syscall(449 /* futex_waitv */, NULL, 0, 0, NULL, 0) < 0)
        return errno != ENOSYS;
    ck_assert_status(status, MTASK_UNSUPPORTED);
    return false;
}

static void play_shared(stage *shared, const call *calls, size_t count) {
    bool able = can_wait_shared();
    for (size_t i = 0; i < count; i++) {
        const call *c = &calls[i];
        if ((c->flags & SHARED) == 0 || !(able || c->open == open_robust))
            continue;
        for (int from = SIBLING; from <= PROCESS; from++)
            for (int how = WOKEN; how <= CANCELED; how++)
                play_between(shared, c, (origin)from, (mode)how, false);
        play_between(shared, c, PROCESS, WOKEN, true);
    }
}

#define PLAY_SHARED(calls)                                                                         \
 do {                                                                                              \
  stage *shared_stage = open_stage();                                                              \
  play_shared(shared_stage, (calls), sizeof(calls) / sizeof(calls)[0]);                            \
  close_stage(shared_stage);                                                                       \
 } while (0)

START_TEST(shared_locks_park_the_task) {
    PLAY_SHARED(locks);
}
END_TEST

START_TEST(shared_signals_park_the_task) {
    PLAY_SHARED(signals);
}
END_TEST

START_TEST(shared_queues_park_the_task) {
    PLAY_SHARED(gets);
    PLAY_SHARED(puts_);
}
END_TEST

static void *wait_shared_word(void *arg) {
    ck_assert_status(mtask_word_wait((mtask_word *)arg, 0, LONG, MTASK_SHARED), MTASK_UNSUPPORTED);
    return NULL;
}

START_TEST(where_tasks_cannot_wait_for_processes_they_are_told) {
    mtask_word word = 0;
    if (!can_wait_shared())
        (void)in_loop(wait_shared_word, &word);
}
END_TEST

/* ---- owners are tasks ---- */

typedef struct owned {
    mtask_rmutex rmutex;
    mtask_mutex first;
    mtask_mutex second;
    mtask_word held; /* how many have their first lock */
    mtask_status status[2];
    int reports;
} owned;

/* Runs while a sibling holds the rmutex and the first mutex. */
static void *no_owner(void *arg) {
    owned *all = (owned *)arg;
    testing_check(mtask_rmutex_is_locked(&all->rmutex));
    testing_check(mtask_rmutex_count(&all->rmutex) == 0);
    ck_assert_status(mtask_rmutex_unlock(&all->rmutex), MTASK_NOT_OWNER);
    ck_assert_status(mtask_rmutex_lock_for(&all->rmutex, MTASK_NOWAIT), MTASK_TIMEOUT);
    ck_assert_status(mtask_rmutex_lock_for(&all->rmutex, MTASK_MS(1)), MTASK_TIMEOUT);
    ck_assert_status(mtask_mutex_lock_for(&all->first, MTASK_MS(1)), MTASK_TIMEOUT);
    return NULL;
}

/* A generator is part of the task that resumes it. */
static void *locks_again(void *arg) {
    owned *all = (owned *)arg;
    ck_assert_status(mtask_rmutex_lock(&all->rmutex), MTASK_OK);
    ck_assert_status(mtask_sleep(MTASK_US(50)), MTASK_OK);
    ck_assert_status(mtask_coro_yield(NULL, NULL), MTASK_OK);
    ck_assert_status(mtask_rmutex_unlock(&all->rmutex), MTASK_OK);
    return NULL;
}

static void *owns(void *arg) {
    owned *all = (owned *)arg;
    mtask_coro *generator = open_coro(locks_again, all);
    ck_assert_status(mtask_rmutex_lock(&all->rmutex), MTASK_OK);
    ck_assert_status(mtask_rmutex_lock(&all->rmutex), MTASK_OK);
    ck_assert_status(mtask_mutex_lock(&all->first), MTASK_OK);
    end_task(go(no_owner, all));
    ck_assert_status(mtask_coro_resume(generator, NULL, NULL), MTASK_OK);
    testing_check(mtask_rmutex_count(&all->rmutex) == 3);
    end_task(go(no_owner, all));
    ck_assert_status(mtask_coro_resume(generator, NULL, NULL), MTASK_DONE);
    end_coro(generator);
    ck_assert_status(mtask_mutex_unlock(&all->first), MTASK_OK);
    ck_assert_status(mtask_rmutex_unlock(&all->rmutex), MTASK_OK);
    ck_assert_status(mtask_rmutex_unlock(&all->rmutex), MTASK_OK);
    ck_assert_status(mtask_rmutex_unlock(&all->rmutex), MTASK_NOT_OWNER);
    return NULL;
}

START_TEST(a_lock_of_one_task_is_not_its_siblings) {
    owned all = {0};
    (void)in_loop(owns, &all);
}
END_TEST

/* ---- the detector of MTASK_DEBUG builds ---- */

#if MTASK_DEBUG
static void count_report(const mtask_deadlock *report, void *ctx) {
    owned *all = (owned *)ctx;
    testing_check(report->count >= 1 && report->refused);
    all->reports++;
}

/* A sibling waits for a lock of this task: that is no dead-lock, though they share a thread. */
static void *waits_for_sibling(void *arg) {
    owned *all = (owned *)arg;
    ck_assert_status(mtask_mutex_unlock(&all->first), MTASK_NOT_OWNER);
    ck_assert_status(mtask_mutex_lock(&all->first), MTASK_OK);
    ck_assert_status(mtask_mutex_unlock(&all->first), MTASK_OK);
    ck_assert_status(mtask_rmutex_lock(&all->rmutex), MTASK_OK);
    ck_assert_status(mtask_rmutex_unlock(&all->rmutex), MTASK_OK);
    return NULL;
}

static void *holds_for_a_while(void *arg) {
    owned *all = (owned *)arg;
    mtask_future *sibling;
    ck_assert_status(mtask_mutex_lock(&all->first), MTASK_OK);
    ck_assert_status(mtask_rmutex_lock(&all->rmutex), MTASK_OK);
    ck_assert_status(mtask_mutex_lock(&all->first), MTASK_DEADLOCK);
    testing_check(all->reports == 1);
    sibling = go(waits_for_sibling, all);
    ck_assert_status(mtask_sleep(MTASK_US(100)), MTASK_OK);
    ck_assert_status(mtask_mutex_unlock(&all->first), MTASK_OK);
    ck_assert_status(mtask_sleep(MTASK_US(100)), MTASK_OK);
    ck_assert_status(mtask_rmutex_unlock(&all->rmutex), MTASK_OK);
    end_task(sibling);
    testing_check(all->reports == 1);
    return NULL;
}

/* Locks both, in this order or the other, when the other task has its first one, too. */
static void lock_crosswise(owned *all, int index) {
    mtask_mutex *mine = index == 0 ? &all->first : &all->second;
    mtask_mutex *other = index == 0 ? &all->second : &all->first;
    ck_assert_status(mtask_mutex_lock(mine), MTASK_OK);
    (void)mtask_word_add(&all->held, 1);
    await(&all->held, 2);
    all->status[index] = mtask_mutex_lock(other);
    if (all->status[index] == MTASK_OK)
        ck_assert_status(mtask_mutex_unlock(other), MTASK_OK);
    ck_assert_status(mtask_mutex_unlock(mine), MTASK_OK);
}

static void *first_of_two(void *arg) {
    lock_crosswise((owned *)arg, 0);
    return NULL;
}

static void *second_of_two(void *arg) {
    lock_crosswise((owned *)arg, 1);
    return NULL;
}

static void second_thread(testing_member *self) {
    (void)second_of_two(self->arg);
}

static void *two_tasks(void *arg) {
    mtask_future *second = go(second_of_two, arg);
    (void)first_of_two(arg);
    end_task(second);
    return NULL;
}

static void check_one_refused(owned *all) {
    testing_check((all->status[0] == MTASK_DEADLOCK) != (all->status[1] == MTASK_DEADLOCK));
    testing_check((all->status[0] == MTASK_OK) != (all->status[1] == MTASK_OK));
    testing_check(all->reports == 1);
}

static void open_checked(owned *all) {
    memset(all, 0, sizeof *all);
    ck_assert_status(mtask_mutex_init(&all->first, MTASK_CHECKED), MTASK_OK);
    ck_assert_status(mtask_mutex_init(&all->second, MTASK_CHECKED), MTASK_OK);
    ck_assert_status(mtask_debug_on_deadlock(count_report, all), MTASK_OK);
}
#endif

START_TEST(the_detector_knows_tasks) {
#if MTASK_DEBUG
    owned all;
    testing_crowd crowd;
    open_checked(&all);
    (void)in_loop(holds_for_a_while, &all);
    open_checked(&all);
    (void)in_loop(two_tasks, &all);
    check_one_refused(&all);
    open_checked(&all);
    testing_crowd_start(&crowd, 1, second_thread, &all);
    (void)in_loop(first_of_two, &all);
    testing_crowd_join(&crowd);
    check_one_refused(&all);
#endif
}
END_TEST

/* ---- a coroutine in a task ---- */

/* Gets numbers from a queue and yields them doubled: when it waits, its task does. */
static void *doubles(void *arg) {
    mtask_queue *queue = (mtask_queue *)arg;
    long item;
    while (mtask_queue_get(queue, &item, MTASK_FOREVER) == MTASK_OK)
        ck_assert_status(mtask_coro_yield((void *)(2 * item), NULL), MTASK_OK);
    return NULL;
}

static void *adds_doubles(void *arg) {
    mtask_coro *generator = open_coro(doubles, arg);
    long sum = 0;
    MTASK_FOREACH(item, generator)
        sum += (long)item;
    end_coro(generator);
    return (void *)sum;
}

static void *feeds(void *arg) {
    mtask_queue *queue = (mtask_queue *)arg;
    mtask_future *sums[2] = {go(adds_doubles, queue), go(adds_doubles, queue)};
    long sum = 0;
    for (long item = 1; item <= 100; item++) {
        ck_assert_status(mtask_queue_put(queue, &item, MTASK_FOREVER), MTASK_OK);
        if (item % 7 == 0)
            ck_assert_status(mtask_sleep(MTASK_US(20)), MTASK_OK);
    }
    ck_assert_status(mtask_queue_close(queue), MTASK_OK);
    for (int i = 0; i < 2; i++)
        sum += (long)take(sums[i]);
    return (void *)sum;
}

START_TEST(a_generator_that_waits_parks_the_task_that_resumed_it) {
    mtask_queue queue;
    open_longs(&queue, MTASK_FIFO, 2);
    ck_assert_int_eq((long)in_loop(feeds, &queue), 100 * 101);
    ck_assert_status(mtask_queue_deinit(&queue), MTASK_OK);
}
END_TEST

/* ---- futures of everybody ---- */

typedef struct everybody {
    mtask_pool *pool;
    mtask_event told; /* whom nobody has told yet waits */
    mtask_future
        *futures[5]; /* of a task here, a task of another loop, a thread, a pool, a promise */
    mtask_word ready;
    mtask_word callbacks;
} everybody;

static void *wait_told(void *arg) {
    everybody *all = (everybody *)arg;
    ck_assert_status(mtask_event_wait(&all->told, MTASK_FOREVER), MTASK_OK);
    return all;
}

static void count_callback(mtask_future *future, void *ctx) {
    testing_check(mtask_future_done(future));
    (void)mtask_word_add(&((everybody *)ctx)->callbacks, 1);
}

/* The other loop: one task, and one that waits for all futures. */
static void *far_main(void *arg) {
    everybody *all = (everybody *)arg;
    mtask_outcome outcome;
    all->futures[1] = go(wait_told, all);
    (void)mtask_word_add(&all->ready, 1);
    await(&all->ready, 2);
    ck_assert_status(mtask_futures_wait(all->futures, 5, MTASK_WAIT_ALL, MTASK_FOREVER), MTASK_OK);
    for (int i = 0; i < 5; i++) {
        ck_assert_status(mtask_future_get(all->futures[i], &outcome, MTASK_FOREVER), MTASK_OK);
        testing_check(outcome.value == all);
    }
    return NULL;
}

static void far_thread(testing_member *self) {
    (void)in_loop(far_main, self->arg);
}

static void near_thread(testing_member *self) {
    everybody *all = (everybody *)self->arg;
    await(&all->ready, 2);
    for (int i = 0; i < 5; i++)
        ck_assert_status(mtask_future_wait(all->futures[i], MTASK_FOREVER), MTASK_OK);
}

static void start_everybody(everybody *all) {
    mtask_thread_desc desc = {0};
    desc.fn = wait_told;
    desc.arg = all;
    desc.future = &all->futures[2];
    await(&all->ready, 1);
    all->futures[0] = go(wait_told, all);
    ck_assert_status(mtask_thread_start_ex(NULL, &desc), MTASK_OK);
    ck_assert_status(mtask_pool_submit(all->pool, wait_told, all, &all->futures[3]), MTASK_OK);
    ck_assert_status(mtask_future_create(&all->futures[4], NULL), MTASK_OK);
    for (int i = 0; i < 5; i++)
        ck_assert_status(mtask_future_then(all->futures[i], count_callback, all), MTASK_OK);
    (void)mtask_word_add(&all->ready, 1);
}

static void *everybody_main(void *arg) {
    everybody *all = (everybody *)arg;
    mtask_completed *completed;
    mtask_future *next;
    mtask_status status;
    int seen = 0;
    start_everybody(all);
    ck_assert_status(mtask_futures_wait(all->futures, 5, MTASK_WAIT_ANY, TIME_OUT), MTASK_TIMEOUT);
    ck_assert_status(mtask_as_completed(all->futures, 5, &completed), MTASK_OK);
    ck_assert_status(mtask_future_set(all->futures[4], all), MTASK_OK);
    ck_assert_status(mtask_completed_next(completed, &next, NULL, MTASK_FOREVER), MTASK_OK);
    testing_check(next == all->futures[4]);
    mtask_event_set(&all->told);
    while ((status = mtask_completed_next(completed, &next, NULL, MTASK_FOREVER)) == MTASK_OK)
        seen++;
    ck_assert_status(status, MTASK_DONE);
    testing_check(seen == 4);
    mtask_completed_close(completed);
    return NULL;
}

START_TEST(futures_of_tasks_threads_and_pools_are_waited_for_together) {
    everybody all = {0};
    testing_crowd crowd = {0};
    all.pool = open_pool(1);
    (void)testing_crowd_add(&crowd, far_thread, &all);
    (void)testing_crowd_add(&crowd, near_thread, &all);
    (void)in_loop(everybody_main, &all);
    testing_crowd_join(&crowd);
    for (int i = 0; i < 5; i++)
        mtask_future_release(all.futures[i]); /* those of tasks: their loops are gone */
    await(&all.callbacks, 5);                 /* they run once those who wait have been told */
    end_pool(all.pool);
    ck_assert_int_eq(mtask_word_load(&all.callbacks), 5);
}
END_TEST

/* ---- timers and jobs ---- */

static void *release_one(void *arg) {
    ck_assert_status(mtask_sem_release((mtask_sem *)arg, 1), MTASK_OK);
    return NULL;
}

static void *timers_main(void *arg) {
    mtask_timer timers[8] = {{0}};
    mtask_timer late = {0};
    mtask_sem sem = {0};
    for (int i = 0; i < 8; i++)
        ck_assert_status(mtask_timer_start(&timers[i], MTASK_US(100 * i), release_one, &sem),
                         MTASK_OK);
    ck_assert_status(mtask_timer_start(&late, LONG, release_one, &sem), MTASK_OK);
    for (int i = 0; i < 8; i++)
        ck_assert_status(mtask_sem_acquire(&sem, LONG), MTASK_OK);
    ck_assert_status(mtask_timer_cancel(&late, MTASK_FOREVER), MTASK_OK);
    for (int i = 0; i < 8; i++) /* the last one may still be running */
        ck_assert_status(mtask_timer_cancel(&timers[i], MTASK_FOREVER), MTASK_DONE);
    return arg;
}

START_TEST(timers_wake_tasks) {
    (void)in_loop(timers_main, NULL);
}
END_TEST

static void *count_up(void *arg) {
    ++*(int *)arg;
    return arg;
}

static void *jobs_main(void *arg) {
    mtask_job job;
    int runs = 0;
    void *value = NULL;
    ck_assert_status(mtask_job_spawn(&job, count_up, &runs), MTASK_OK);
    testing_check(runs == 1); /* here and now */
    ck_assert_status(mtask_job_sync(&job, &value), MTASK_OK);
    testing_check(value == &runs);
    return arg;
}

START_TEST(jobs_of_a_task_run_in_place) {
    (void)in_loop(jobs_main, NULL);
}
END_TEST

/* ---- a loop in a task of a pool ---- */

static void *three(void *arg) {
    (void)arg;
    return (void *)3L;
}

static void *ask_pool(void *arg) {
    mtask_future *future;
    ck_assert_status(mtask_pool_submit((mtask_pool *)arg, three, NULL, &future), MTASK_OK);
    return take(future);
}

static void *ask_twice(void *arg) {
    mtask_future *sibling = go(ask_pool, arg);
    long sum = (long)ask_pool(arg);
    (void)jobs_main(NULL);
    return (void *)(sum + (long)take(sibling));
}

static void *loop_in_worker(void *arg) {
    mtask_pool *pool = mtask_pool_current();
    uint64_t id = mtask_task_id();
    long sum = (long)in_loop(ask_twice, arg);
    testing_check(mtask_pool_current() == pool && mtask_task_id() == id);
    return (void *)(sum + (long)ask_pool(pool)); /* one worker: it runs that itself */
}

START_TEST(a_task_of_a_pool_runs_a_loop) {
    mtask_pool *outer = open_pool(1);
    mtask_pool *inner = open_pool(1);
    mtask_future *future;
    ck_assert_status(mtask_pool_submit(outer, loop_in_worker, inner, &future), MTASK_OK);
    ck_assert_int_eq((long)take(future), 9);
    end_pool(outer);
    end_pool(inner);
}
END_TEST

TESTING_MAIN("mixed", locks_and_conditions_park_the_task, signals_futures_and_threads_park_the_task,
             bounded_queues_park_the_task, unbounded_queues_park_the_task, pools_park_the_task,
             shared_locks_park_the_task, shared_signals_park_the_task, shared_queues_park_the_task,
             where_tasks_cannot_wait_for_processes_they_are_told,
             a_lock_of_one_task_is_not_its_siblings, the_detector_knows_tasks,
             a_generator_that_waits_parks_the_task_that_resumed_it,
             futures_of_tasks_threads_and_pools_are_waited_for_together, timers_wake_tasks,
             jobs_of_a_task_run_in_place, a_task_of_a_pool_runs_a_loop)
