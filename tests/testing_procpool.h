/* testing_procpool.h - what several tests of pools of processes have in common: pools, tasks for
   them, and a board that the tasks of forked workers share with the test */
#ifndef MTASK_TESTING_PROCPOOL_H
#define MTASK_TESTING_PROCPOOL_H

#include "testing_proc.h"

#include "../mtask_pool.h"

/* Where there are no pidfds, workers have threads; those of the parent that nobody can join there
   are no leak. */
const char *__tsan_default_options(void);
const char *__tsan_default_options(void) {
    return "die_after_fork=0:report_thread_leaks=0";
}

/* ---- the board ---- */

enum { LAPS = 4096 };

/* Lies in memory that a test shares with the workers that are forked after open_board. */
typedef struct board {
    mtask_word gate;    /* 1: it is open */
    mtask_word at_gate; /* how many tasks have come there */
    mtask_word clock;   /* counts beginnings */
    mtask_word began[LAPS];
    mtask_word ran[LAPS]; /* how often */
} board;

static board *shared;

/* Lays out a board, all zero. */
static TESTING_UNUSED void open_board(void) {
    shared = (board *)share_memory(sizeof *shared);
}

/* Returns when the word, of the board or another one, holds at least `value`. */
static TESTING_UNUSED void await_shared(const mtask_word *word, mtask_word value) {
    while (mtask_word_load(word) < value)
        testing_pause(1);
}

static TESTING_UNUSED void open_gate(void) {
    mtask_word_store(&shared->gate, 1);
}

/* ---- tasks ---- */

static TESTING_UNUSED mtask_status echo(const void *in, size_t size, mtask_buf *out) {
    return mtask_buf_append(out, in, size);
}

/* The number that a task was given, first of all. */
static TESTING_UNUSED long number_in(const void *in, size_t size) {
    long number;
    IN_CHILD(size >= sizeof number && (uintptr_t)in % 16 == 0);
    memcpy(&number, in, sizeof number);
    return number;
}

static TESTING_UNUSED mtask_status put_number(mtask_buf *out, long number) {
    return mtask_buf_append(out, &number, sizeof number);
}

static TESTING_UNUSED mtask_status square(const void *in, size_t size, mtask_buf *out) {
    long number = number_in(in, size);
    return put_number(out, number * number);
}

static TESTING_UNUSED mtask_status own_pid(const void *in, size_t size, mtask_buf *out) {
    (void)in;
    (void)size;
    return put_number(out, getpid());
}

/* Waits until the gate is open; then as echo. */
static TESTING_UNUSED mtask_status wait_at_gate(const void *in, size_t size, mtask_buf *out) {
    mtask_word_add(&shared->at_gate, 1);
    await_shared(&shared->gate, 1);
    return mtask_buf_append(out, in, size);
}

/* Writes down that this number ran, and how many had begun before it. */
static TESTING_UNUSED mtask_status take_lap(const void *in, size_t size, mtask_buf *out) {
    long number = number_in(in, size);
    IN_CHILD(number >= 0 && number < LAPS);
    mtask_word_store(&shared->began[number], mtask_word_add(&shared->clock, 1));
    mtask_word_add(&shared->ran[number], 1);
    return put_number(out, number);
}

static TESTING_UNUSED bool holds_pattern(const void *buffer, size_t size) {
    const unsigned char *bytes = (const unsigned char *)buffer;
    for (size_t i = 0; i < size; i++)
        if (bytes[i] != pattern_at(i))
            return false;
    return true;
}

static TESTING_UNUSED void put_pattern(mtask_buf *out, size_t size) {
    IN_CHILD(mtask_buf_reserve(out, size) == MTASK_OK);
    make_pattern(out->data + out->size, 0, size);
    out->size += size;
}

/* Of a pattern, with a number in its place at the end: gives so many bytes of it. */
static TESTING_UNUSED mtask_status exchange(const void *in, size_t size, mtask_buf *out) {
    size_t wanted;
    IN_CHILD(size >= sizeof wanted && (uintptr_t)in % 16 == 0);
    IN_CHILD(holds_pattern(in, size - sizeof wanted));
    memcpy(&wanted, (const char *)in + size - sizeof wanted, sizeof wanted);
    put_pattern(out, wanted);
    return MTASK_OK;
}

/* Fails with the status that it was given. */
static TESTING_UNUSED mtask_status fail_as_told(const void *in, size_t size, mtask_buf *out) {
    long code = number_in(in, size);
    IN_CHILD(mtask_buf_printf(out, "dropped") == MTASK_OK);
    (void)mtask_fail((mtask_status)code, "code %ld", code);
    return (mtask_status)code;
}

/* How a task is to end its process. */
typedef struct crash {
    int signal;  /* that it sends itself; 0: none */
    int code;    /* then: its exit code */
    bool atexit; /* by exit, not by _exit */
} crash;

static TESTING_UNUSED mtask_status crash_as_told(const void *in, size_t size, mtask_buf *out) {
    crash how = {.signal = SIGKILL};
    if (size >= sizeof how)
        memcpy(&how, in, sizeof how);
    IN_CHILD(mtask_buf_printf(out, "never seen") == MTASK_OK);
    if (how.signal != 0) {
        (void)signal(how.signal, SIG_DFL); /* sanitizers catch some */
        (void)raise(how.signal);
    }
    if (how.atexit)
        exit(how.code);
    _exit(how.code);
}

/* ---- pools ---- */

static TESTING_UNUSED mtask_procpool *make(const mtask_procpool_desc *desc) {
    mtask_procpool *pool = NULL;
    ck_assert_status(mtask_procpool_create(&pool, desc), MTASK_OK);
    testing_check(pool != NULL);
    return pool;
}

static TESTING_UNUSED mtask_procpool *open_procpool(unsigned workers) {
    mtask_procpool_desc desc = {0};
    desc.workers = workers;
    return make(&desc);
}

/* A pool in which processes take the place of others while tasks go on. They are forked by a thread
   then, which the allocators of sanitizers do not survive: there they come from the fork server. */
static TESTING_UNUSED mtask_procpool *make_mending(mtask_procpool_desc desc) {
    if (TESTING_TSAN || TESTING_ASAN)
        desc.method = MTASK_PROC_FORKSERVER;
    return make(&desc);
}

/* Ends a pool when all that was submitted is done. */
static TESTING_UNUSED void end_procpool(mtask_procpool *pool) {
    ck_assert_status(mtask_procpool_close(pool), MTASK_OK);
    ck_assert_status(mtask_procpool_join(pool, MTASK_FOREVER), MTASK_OK);
    ck_assert_status(mtask_procpool_destroy(pool), MTASK_OK);
}

static TESTING_UNUSED mtask_future *submit(mtask_procpool *pool, mtask_bytes_fn fn, const void *in,
                                           size_t size) {
    mtask_future *future = NULL;
    ck_assert_status(mtask_procpool_submit(pool, fn, in, size, &future), MTASK_OK);
    testing_check(future != NULL);
    return future;
}

static TESTING_UNUSED mtask_future *submit_number(mtask_procpool *pool, mtask_bytes_fn fn,
                                                  long number) {
    return submit(pool, fn, &number, sizeof number);
}

static TESTING_UNUSED mtask_future *submit_desc(mtask_procpool *pool,
                                                const mtask_proctask_desc *desc) {
    mtask_future *future = NULL;
    ck_assert_status(mtask_procpool_submit_ex(pool, desc, &future, MTASK_FOREVER), MTASK_OK);
    testing_check(future != NULL);
    return future;
}

static TESTING_UNUSED const mtask_procpool_desc one_worker = {.workers = 1};

/* A pool whose workers are all held at the gate of a new board, so that whatever is submitted now
   waits. */
static TESTING_UNUSED mtask_procpool *make_held(mtask_procpool_desc desc) {
    mtask_procpool *pool;
    if (desc.workers == 0)
        desc.workers = 1;
    open_board();
    pool = make(&desc);
    for (unsigned i = 0; i < desc.workers; i++) {
        mtask_future_release(submit(pool, wait_at_gate, NULL, 0));
        await_shared(&shared->at_gate, i + 1);
    }
    return pool;
}

/* Lets them go, and ends the pool when all is done. */
static TESTING_UNUSED void open_and_end(mtask_procpool *pool) {
    open_gate();
    end_procpool(pool);
}

/* ---- results ---- */

/* Waits for a task that succeeds with a number. */
static TESTING_UNUSED long take_number(mtask_future *future) {
    size_t size = 0;
    long number;
    const void *data;
    ck_assert_status(mtask_future_get(future, NULL, MTASK_FOREVER), MTASK_OK);
    data = mtask_future_bytes(future, &size);
    testing_check(data != NULL && size == sizeof number);
    memcpy(&number, data, sizeof number);
    mtask_future_release(future);
    return number;
}

static TESTING_UNUSED mtask_future *submit_exchange(mtask_procpool *pool, size_t size,
                                                    size_t wanted) {
    unsigned char *in = (unsigned char *)malloc(size);
    mtask_future *future;
    testing_check(in != NULL);
    make_pattern(in, 0, size - sizeof wanted);
    memcpy(in + size - sizeof wanted, &wanted, sizeof wanted);
    future = submit(pool, exchange, in, size);
    memset(in, 0x5a, size); /* it has been copied */
    free(in);
    return future;
}

static TESTING_UNUSED void take_exchange(mtask_future *future, size_t wanted) {
    size_t size = wanted + 1;
    const void *data;
    ck_assert_status(mtask_future_get(future, NULL, MTASK_FOREVER), MTASK_OK);
    data = mtask_future_bytes(future, &size);
    testing_check(data != NULL && size == wanted && holds_pattern(data, size));
    testing_check(((const char *)data)[size] == '\0');
    mtask_future_release(future);
}

/* Waits for a task that succeeds with these bytes. */
static TESTING_UNUSED void take_bytes(mtask_future *future, const void *bytes, size_t size) {
    size_t got = size + 1;
    const char *data;
    mtask_outcome outcome;
    memset(&outcome, 0x5a, sizeof outcome);
    ck_assert_status(mtask_future_get(future, &outcome, MTASK_FOREVER), MTASK_OK);
    ck_assert_status(outcome.status, MTASK_OK);
    ck_assert_str_eq(outcome.text, "");
    data = (const char *)mtask_future_bytes(future, &got);
    testing_check(data != NULL && got == size && outcome.value == data);
    testing_check((uintptr_t)data % 16 == 0 && data[size] == '\0');
    testing_check(size == 0 || memcmp(data, bytes, size) == 0);
    mtask_future_release(future);
}

/* Waits for a task that fails so. How it ended. */
static TESTING_UNUSED mtask_outcome take_failure(mtask_future *future, mtask_status status) {
    mtask_outcome outcome;
    size_t size = 1;
    memset(&outcome, 0x5a, sizeof outcome);
    ck_assert_status(mtask_future_get(future, &outcome, MTASK_FOREVER), MTASK_FAILED);
    ck_assert_status(outcome.status, status);
    testing_check(outcome.value == NULL);
    testing_check(mtask_future_bytes(future, &size) == NULL && size == 0);
    mtask_future_release(future);
    return outcome;
}

/* Waits for a task that was cancelled, before it began or with its pool. */
static TESTING_UNUSED void take_canceled(mtask_future *future) {
    mtask_outcome outcome;
    mtask_status status;
    memset(&outcome, 0x5a, sizeof outcome);
    status = mtask_future_get(future, &outcome, MTASK_FOREVER);
    testing_check(status == MTASK_CANCELED || status == MTASK_FAILED);
    ck_assert_status(outcome.status, MTASK_CANCELED);
    mtask_future_release(future);
}

/* What a future says of itself. */
static TESTING_UNUSED void check_state(const mtask_future *future, bool done, bool running,
                                       bool canceled) {
    ck_assert(mtask_future_done(future) == done);
    ck_assert(mtask_future_running(future) == running);
    ck_assert(mtask_future_canceled(future) == canceled);
}

static TESTING_UNUSED void cancel(mtask_future *future) {
    ck_assert_status(mtask_future_cancel(future), MTASK_OK);
    check_state(future, true, false, true);
    mtask_future_release(future);
}

/* One of a crowd that waits for a future. */
static TESTING_UNUSED void get_result(testing_member *self) {
    self->status = mtask_future_get((mtask_future *)self->arg, NULL,
                                    self->index % 2 == 0 ? MTASK_FOREVER : MTASK_SEC(60));
}

/* Fails the test unless the pool does a task. */
static TESTING_UNUSED void check_works(mtask_procpool *pool) {
    testing_check(take_number(submit_number(pool, square, 12)) == 144);
}

/* Returns when the pool has all its workers, and has started at least so many. */
static TESTING_UNUSED void await_workers(mtask_procpool *pool, size_t started) {
    for (;;) {
        mtask_procpool_stats stats = mtask_procpool_get_stats(pool);
        if (stats.alive == stats.workers && stats.started >= started)
            return;
        testing_pause(1);
    }
}

/* ---- processes ---- */

/* Fails the test if this process has a child, running or not waited for, but the fork server. */
static TESTING_UNUSED void check_no_children(void) {
    ck_assert_status(mtask_forkserver_stop(), MTASK_OK);
    testing_check(waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD);
}

/* The numbers of a pool's `count` workers. */
static TESTING_UNUSED void get_pids(mtask_procpool *pool, pid_t *pids, size_t count) {
    testing_check(mtask_procpool_pids(pool, pids, count) == count);
    for (size_t i = 0; i < count; i++)
        testing_check(pids[i] > 0 && pids[i] != getpid());
}

#endif
