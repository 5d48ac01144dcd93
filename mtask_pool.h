/* mtask_pool.h 0.3.0 - thread pools, futures by the thousand, and fork-join for C

   Python's `concurrent.futures.ThreadPoolExecutor` and `multiprocessing.pool.ThreadPool` in one
   header: submit, map, imap, as_completed, groups, callbacks; bounded backlogs; close, terminate
   and join that never hang; tasks that wait for tasks without a dead-lock. And fork-join: jobs on
   the caller's stack that cost a few nanoseconds and that idle workers steal. It stands on
   mtask_queue.h and mtask.h.

   USE
     Copy this file, mtask_queue.h and mtask.h. In ONE .c (or .cpp) file, before any other include:

         #define MTASK_IMPLEMENTATION
         #include "mtask_pool.h"

     and in the others just `#include "mtask_pool.h"`. Compile with -pthread.

   EXAMPLE (cc -O2 -pthread example.c)

         #define MTASK_IMPLEMENTATION
         #include "mtask_pool.h"
         #include <stdio.h>

         static void square(const void *in, void *out, void *ctx) {
             *(long *)out = *(const long *)in * *(const long *)in;
             (void)ctx;
         }

         int main(void) {
             mtask_pool *pool;
             long in[] = {1, 2, 3}, out[3];
             mtask_map_desc map = {.fn = square, .count = 3, .in = in, .in_size = sizeof in[0],
                                   .out = out, .out_size = sizeof out[0]};
             if (mtask_pool_create(&pool, NULL) != MTASK_OK)
                 return 1;
             if (mtask_pool_map(pool, &map, NULL) == MTASK_OK)
                 printf("%ld %ld %ld\n", out[0], out[1], out[2]);
             return mtask_pool_destroy(pool) != MTASK_OK;
         }

   WHAT HOLDS FOR ALL POOLS
     - Tasks start in the order in which they were submitted. Idle workers sleep: no CPU.
     - A task may submit tasks to its own pool and wait for them, with any number of workers. A
       worker that waits for a future without a time-out runs that task itself if nobody has started
       it; otherwise it blocks, and if there is work the pool starts another thread in its place, up
       to `spare` of them. It never runs unrelated tasks meanwhile, so a task may hold a lock while
       it waits. Tasks that wait for each other in a circle get MTASK_DEADLOCK instead of a hang, and
       so does the wait that would leave the pool with no thread at all to go on.
     - This holds for waits for futures, groups, maps and iterators. A task that blocks elsewhere
       (a lock, a queue, a read) simply occupies its worker.
     - NULL for a pool means the default pool, made on first use: mtask_pool_default.
     - Any thread may call any function at any time, except that mtask_pool_destroy comes last.
     - After fork() the pools of the parent answer MTASK_BROKEN in the child, and so do waits for
       their futures; the child gets a default pool of its own.

   COSTS
     A job: no allocation, no atomic read-modify-write, about as much as four function calls. A
     posted task: 32 bytes while it waits, no allocation of its own. A submitted one: one allocation.

   CONTENTS: grep for the tag.
     >>pool  >>submit  >>group  >>job  >>loop  >>map  >>imap  >>completed
     implementation: >>pool-state  >>deque  >>backlog  >>idle  >>work  >>wait-graph  >>worker
     >>pool-end  and the same again
     platforms: >>linux-barrier  >>posix-barrier

   OPTIONS (define them before the include, the same in every file)
     MTASK_POOL_SPIN         pauses that a worker makes, looking for work, before it sleeps, at most
                             (default: 128, about 3 microseconds; on one CPU none)
     MTASK_POOL_DEPTH        how many tasks a worker may run nested, each waiting for the next one,
                             before it blocks instead (default: 64)
     and those of mtask.h and mtask_queue.h.
     MTASK_POOL_IMPLEMENTATION instead of MTASK_IMPLEMENTATION implements this header alone, in a
     file other than those that implement the others.

   LICENCE: MIT or public domain, at your choice; see the end of mtask.h. */

#include "mtask_queue.h"

#ifndef MTASK_POOL_H
# define MTASK_POOL_H

# ifdef __cplusplus
extern "C" {
# endif

/* ---- >>pool: concurrent.futures.ThreadPoolExecutor, multiprocessing.pool.ThreadPool ---- */

/* Some threads that run tasks. */
typedef struct mtask_pool mtask_pool;

/* How to make a pool. Zero, or NULL, means the default. */
typedef struct mtask_pool_desc {
    unsigned workers; /* threads, at most 1024 (default: mtask_cpu_count) */
    unsigned spare;   /* threads more, at most 1024, that stand in for workers that wait; they
                              end when they are not needed (default: 64) */
    const char *name; /* the threads are called NAME-0, NAME-1 ... (default: "Pool-N") */
    mtask_fn init;    /* runs first in each thread, with `ctx`; if it fails, the pool is broken
                              (default: none) */
    void (*deinit)(
        void *ctx); /* runs last in each thread whose init did not fail (default: none) */
    void *ctx;      /* for these two (default: NULL) */
    size_t backlog; /* most tasks that wait to be started (default: no limit) */
    bool reject;    /* mtask_pool_submit and _post answer MTASK_FULL if the backlog is full
                              (default: they wait) */
    const unsigned
        *cpus;         /* numbers of the CPUs that the threads may use (default: the creator's) */
    size_t cpu_count;  /* how many of them */
    bool pin;          /* worker i runs on cpus[i % cpu_count] alone (default: on all of them) */
    size_t stack_size; /* of a thread, in bytes (default: the system's) */
    size_t jobs;       /* most jobs that a worker has spawned and not synced; what goes beyond
                              is run in place; at most 2^24 (default: 4096) */
} mtask_pool_desc;

/* Starts a pool as the description says (NULL: all default). Its threads are daemons: they do not
   keep mtask_thread_join_all waiting. Destroy it. MTASK_INVALID, MTASK_NOMEM, MTASK_SYSTEM (a thread
   could not be started, or a CPU does not exist): then nothing is left behind. */
MTASK_API mtask_status mtask_pool_create(mtask_pool **pool, const mtask_pool_desc *desc);

/* The pool that the whole program shares: made on first use, with the defaults, never destroyed.
   As mtask_pool_create. */
MTASK_API mtask_status mtask_pool_default(mtask_pool **pool);

/* The pool whose worker the caller is; NULL if it is none. */
MTASK_API mtask_pool *mtask_pool_current(void);

/* How many workers it has, without spare ones. */
MTASK_API unsigned mtask_pool_workers(const mtask_pool *pool);

/* No more tasks: submitting answers MTASK_CLOSED from now on; what was submitted is still done.
   Does not block. MTASK_OK (also if it is closed already), MTASK_BROKEN. */
MTASK_API mtask_status mtask_pool_close(mtask_pool *pool);

/* Closes the pool and cancels all that has not started; what runs, runs on. As mtask_pool_close. */
MTASK_API mtask_status mtask_pool_terminate(mtask_pool *pool);

/* Blocks until a closed pool has done all it had to do and its threads have ended, at most
   `timeout` nanoseconds. MTASK_OK, MTASK_TIMEOUT. MTASK_INVALID: it is not closed, or the timeout is
   negative. MTASK_DEADLOCK: called by a worker of this pool. MTASK_BROKEN: a pool of the parent
   process, or an init failed. MTASK_CANCELED, MTASK_SYSTEM. */
MTASK_API mtask_status mtask_pool_join(mtask_pool *pool, int64_t timeout);

/* Closes and joins the pool, and frees it; waits for whoever still waits in mtask_pool_join. NULL is
   allowed. Futures stay valid. MTASK_OK; MTASK_DEADLOCK, and nothing happened: called by a worker of
   this pool; MTASK_INVALID: it is the default pool. */
MTASK_API mtask_status mtask_pool_destroy(mtask_pool *pool);

/* What a pool has done and has to do. */
typedef struct mtask_pool_stats {
    uint64_t submitted; /* tasks, posted ones included */
    uint64_t done;      /* tasks that have ended, failed ones included */
    uint64_t failed;    /* tasks that have failed */
    uint64_t canceled;  /* tasks that were cancelled before they started */
    uint64_t stolen;    /* jobs that a worker took from another one */
    int64_t busy;       /* nanoseconds that its workers have spent not idle, all together */
    size_t pending;     /* tasks that wait to be started */
    size_t running;     /* tasks that run now */
    unsigned threads;   /* threads, spare ones included */
    unsigned idle;      /* threads that have nothing to do */
    unsigned waiting;   /* threads whose task waits for another one */
} mtask_pool_stats;

/* What one of its threads has done. */
typedef struct mtask_worker_stats {
    uint64_t tasks;  /* tasks that it has run */
    uint64_t stolen; /* jobs that it took from others */
    int64_t busy;    /* nanoseconds that it has spent not idle */
    size_t jobs;     /* jobs in its deque */
} mtask_worker_stats;

/* Fills `stats`, and an element of `workers` (NULL allowed) for each of the first `capacity`
   workers. Does not block. MTASK_OK, MTASK_BROKEN. */
MTASK_API mtask_status mtask_pool_get_stats(mtask_pool *pool, mtask_pool_stats *stats,
                                            mtask_worker_stats *workers, size_t capacity);

/* ---- >>submit ---- */

/* Has a worker run fn(arg). `future` receives a reference on its result; give it back with
   mtask_future_release (NULL: not wanted). mtask_future_cancel takes the task out if it has not
   started. If the backlog is full, blocks, unless the pool rejects: MTASK_FULL. MTASK_CLOSED,
   MTASK_BROKEN (an init failed, or after fork), MTASK_INVALID (no fn), MTASK_NOMEM, MTASK_CANCELED,
   MTASK_DEADLOCK (called by the last worker that does not wait, with a full backlog). */
MTASK_API mtask_status mtask_pool_submit(mtask_pool *pool, mtask_fn fn, void *arg,
                                         mtask_future **future);

/* The same without a future: its value is dropped, and so is its failure (but it is counted). Needs
   no allocation of its own. */
MTASK_API mtask_status mtask_pool_post(mtask_pool *pool, mtask_fn fn, void *arg);

struct mtask_group;

/* A task with all that can be said about it. */
typedef struct mtask_task_desc {
    mtask_fn fn;                     /* what to run (required) */
    void *arg;                       /* with what (default: NULL) */
    struct mtask_group *group;       /* to which it belongs; of the same pool (default: none) */
    void (*free_value)(void *value); /* frees a value that nobody took from the future, and the
                                          values of tasks without a future (default: none) */
    void (*on_success)(void *value, void *ctx); /* runs when it has succeeded, in the worker, before
                                          later callbacks of mtask_future_then (default: none) */
    void (*on_failure)(const mtask_outcome *outcome, void *ctx); /* runs when it has failed, in the
                                          worker, or was cancelled, where that was done */
    void *ctx;                                                   /* for these two */
} mtask_task_desc;

/* Submits a task as the description says; `future` may be NULL. Waits for room in the backlog at
   most `timeout` nanoseconds: MTASK_FULL. Otherwise as mtask_pool_submit; MTASK_INVALID also for a
   negative timeout or a group of another pool; MTASK_CANCELED also for a cancelled group. */
MTASK_API mtask_status mtask_pool_submit_ex(mtask_pool *pool, const mtask_task_desc *desc,
                                            mtask_future **future, int64_t timeout);

/* ---- >>group: wait for all of some tasks ---- */

/* Flags of a group. */
enum {
    MTASK_FAIL_FAST = 1 << 4 /* the first failure cancels what has not started */
};

/* Some tasks of a pool. It lies in the caller's memory and needs no deinit; it must live until
   mtask_group_wait has returned MTASK_OK, MTASK_FAILED or MTASK_CANCELED. */
typedef struct mtask_group {
    mtask_pool *pool;
    mtask_word count;    /* of tasks that have not ended, and WAITERS; see the implementation */
    mtask_word flags;    /* as given, and whether it was cancelled */
    mtask_mutex lock;    /* guards the outcome */
    size_t canceled;     /* how many were */
    mtask_outcome first; /* the first failure */
} mtask_group;

/* Makes an empty group for tasks of `pool`. `flags`: 0 or MTASK_FAIL_FAST. MTASK_INVALID, or as
   mtask_pool_default. */
MTASK_API mtask_status mtask_group_init(mtask_group *group, mtask_pool *pool, int flags);

/* mtask_pool_submit and mtask_pool_post of a task that belongs to the group. A task of the group may
   add others. MTASK_CANCELED: the group was cancelled. */
MTASK_API mtask_status mtask_group_submit(mtask_group *group, mtask_fn fn, void *arg,
                                          mtask_future **future);
MTASK_API mtask_status mtask_group_post(mtask_group *group, mtask_fn fn, void *arg);

/* Cancels what has not started; later submits answer MTASK_CANCELED. Does not block. */
MTASK_API mtask_status mtask_group_cancel(mtask_group *group);

/* Blocks until all its tasks have ended, at most `timeout` nanoseconds. MTASK_OK: all succeeded.
   MTASK_FAILED: `outcome` (NULL allowed) is the first failure, in time. MTASK_CANCELED: none failed,
   but some were cancelled, or the calling coroutine was (then mtask_group_pending is not 0).
   MTASK_TIMEOUT, MTASK_DEADLOCK, MTASK_INVALID (negative), MTASK_SYSTEM. Then the group is empty and
   ready for more, as if made anew. */
MTASK_API mtask_status mtask_group_wait(mtask_group *group, mtask_outcome *outcome,
                                        int64_t timeout);

/* How many of its tasks have not ended. */
MTASK_API size_t mtask_group_pending(const mtask_group *group);

/* ---- >>job: fork-join ---- */

struct mtask__deque;

/* A part of the caller's work that another worker may do, on the caller's stack. Need not be
   zeroed. */
typedef struct mtask_job {
    mtask_fn fn;
    void *arg;
    void *value;
    char *text;                 /* why it failed: allocated, or NULL */
    struct mtask__deque *thief; /* who took it */
    mtask_pool *pool;           /* of a caller that is no worker: where it waits, */
    mtask_word ticket;          /* under which number */
    mtask_word state;
    mtask_status status;
} mtask_job;

/* Says that fn(arg) may run now, on any worker of the caller's pool, while the caller goes on; it
   must sync the job before its function returns. A caller that is no worker gives the job to the
   default pool; in a coroutine, or if there is no room or memory for one more job, it runs here and
   now. MTASK_OK, MTASK_INVALID (no fn). Never fails otherwise, does not block, does not allocate. */
MTASK__INLINE mtask_status mtask_job_spawn(mtask_job *job, mtask_fn fn, void *arg);

/* Ends a job: runs it here if nobody has taken it; otherwise does what the thief has to offer, and
   sleeps. `value` (NULL allowed) receives what it returned. Jobs of a worker are synced in reverse
   order of their spawns. MTASK_OK. MTASK_FAILED: it failed, and *value is what mtask_fail returns:
   `return value;` passes the failure on, mtask_failure tells what it was. MTASK_INVALID: it is not
   the job spawned last, or no job. A job that runs in place runs as part of the calling task: it
   may take an rmutex that the caller holds; a stolen one may not, so better hold no lock. */
MTASK__INLINE mtask_status mtask_job_sync(mtask_job *job, void **value);

/* ---- >>loop: for and reduce over index ranges ---- */

/* A loop over the indices from `begin` up to, not including, `end`. It fails if its body calls
   mtask_fail; then parts not begun yet are left out. */
typedef struct mtask_loop_desc {
    size_t begin; /* (default: 0) */
    size_t end;
    size_t grain; /* most indices for one call of the body (default: an 64th of each worker's
                             share, at least 1) */
    void (*body)(size_t begin, size_t end, void *ctx); /* of mtask_pool_for_ex */
    void (*fold)(size_t begin, size_t end, void *into,
                 void *ctx);                                   /* of mtask_pool_reduce: adds what
                             these indices give to *into */
    void (*combine)(void *into, const void *later, void *ctx); /* of mtask_pool_reduce: adds *later,
                             of the indices behind those of *into, to *into; must be associative */
    const void *identity; /* of mtask_pool_reduce: what every part begins with */
    size_t size;          /* of mtask_pool_reduce: bytes of a result */
    void *ctx;            /* handed to these (default: NULL) */
    mtask_word *progress; /* counts the indices that are done, modulo 2^32: read it with
                             mtask_word_load while the loop runs (default: NULL) */
} mtask_loop_desc;

/* Runs the body for all indices, in parts, on the workers of the pool (in a worker of it, also on
   the caller's). Blocks until all is done. MTASK_OK; MTASK_FAILED: `outcome` (NULL allowed) tells
   the first failure, by index; MTASK_INVALID, MTASK_NOMEM, and as mtask_pool_submit. */
MTASK_API mtask_status mtask_pool_for_ex(mtask_pool *pool, const mtask_loop_desc *desc,
                                         mtask_outcome *outcome);

/* The same in short. */
MTASK_API mtask_status mtask_pool_for(mtask_pool *pool, size_t begin, size_t end,
                                      void (*body)(size_t begin, size_t end, void *ctx), void *ctx);

/* Folds all indices into *result: as mtask_pool_for_ex. Parts are combined in order of their
   indices, but where they begin depends on chance: floating-point sums may differ in the last
   bits. An empty range gives the identity. Without memory for the result of a part, fewer parts are
   made. On failure *result is not meaningful. */
MTASK_API mtask_status mtask_pool_reduce(mtask_pool *pool, const mtask_loop_desc *desc,
                                         void *result, mtask_outcome *outcome);

/* ---- >>map: Pool.map over arrays ---- */

/* What is done to one item: reads *in, writes *out. It fails by calling mtask_fail, whose value it
   drops; also what it calls in the same task (jobs run in place) counts. */
typedef void (*mtask_item_fn)(const void *in, void *out, void *ctx);

/* A map over an array. The arrays are the caller's, until it is done. */
typedef struct mtask_map_desc {
    mtask_item_fn fn; /* required */
    void *ctx;        /* handed to fn (default: NULL) */
    size_t count;     /* items */
    const void *in;   /* count x in_size bytes (default: NULL: fn gets NULL) */
    size_t in_size;
    void *out; /* count x out_size bytes (default: NULL: fn gets NULL) */
    size_t out_size;
    mtask_status *statuses; /* receives how each item ended (default: NULL) */
    size_t chunk;           /* items that a worker takes at a time (default: count / (4 x workers),
                               rounded up) */
    mtask_word *progress;   /* as in mtask_loop_desc: counts items (default: NULL) */
} mtask_map_desc;

/* Does fn to all items. Blocks until all are done. Items that fail do not stop the others. MTASK_OK;
   MTASK_FAILED: `outcome` (NULL allowed) is the failure of the first item that failed, by index;
   MTASK_INVALID, and as mtask_pool_submit. */
MTASK_API mtask_status mtask_pool_map(mtask_pool *pool, const mtask_map_desc *desc,
                                      mtask_outcome *outcome);

/* The same without waiting: `future` ends, with value NULL or as the first item that failed, when
   all items are done. The description is copied. */
MTASK_API mtask_status mtask_pool_map_async(mtask_pool *pool, const mtask_map_desc *desc,
                                            mtask_future **future);

/* ---- >>imap: Pool.imap and imap_unordered ---- */

/* Writes the next input to *in: MTASK_OK; MTASK_DONE: there is none; anything else, with mtask_fail
   for the text, is a failure, which ends the input. Runs in a worker, never twice at once. */
typedef mtask_status (*mtask_input_fn)(void *in, void *ctx);

/* A map over an input that is pulled as it is needed. Results lie in buffers of the iterator. */
typedef struct mtask_imap_desc {
    mtask_item_fn fn;     /* required */
    mtask_input_fn input; /* required */
    void *ctx;            /* handed to both (default: NULL) */
    size_t in_size;       /* bytes of an input; buffers are aligned to 64 and reused as they are */
    size_t out_size;      /* bytes of a result */
    size_t chunk;         /* items that a worker takes at a time (default: 1) */
    size_t ahead;         /* most items that are pulled and not yet returned, rounded up to whole
                             chunks, at least one (default: 2 x workers x chunk) */
    bool unordered;       /* results come as they are ready (default: in order of the input) */
} mtask_imap_desc;

/* An iterator over results. One thread at a time may use it. */
typedef struct mtask_imap mtask_imap;

/* One result. */
typedef struct mtask_item {
    size_t index;   /* of its input: 0, 1 ... */
    const void *in; /* the iterator's buffers: both stay until the next call with it */
    void *out;
    mtask_status status; /* MTASK_OK, or what it failed with */
    const char *text;    /* why it failed; "" if it did not */
} mtask_item;

/* Begins to pull and to work. Close it. MTASK_INVALID, MTASK_NOMEM, and as mtask_pool_submit. */
MTASK_API mtask_status mtask_pool_imap(mtask_pool *pool, const mtask_imap_desc *desc,
                                       mtask_imap **imap);

/* mtask_pool_imap with `unordered`. */
MTASK_API mtask_status mtask_pool_imap_unordered(mtask_pool *pool, const mtask_imap_desc *desc,
                                                 mtask_imap **imap);

/* Blocks until the next result is there, at most `timeout` nanoseconds. MTASK_OK; MTASK_FAILED: this
   item failed (item->status, text), or, if item->out is NULL, the input did; the rest goes on.
   MTASK_DONE: there are no more. MTASK_TIMEOUT: try again. MTASK_DEADLOCK, MTASK_CANCELED (the
   calling coroutine, or the pool was terminated), MTASK_INVALID (negative), MTASK_SYSTEM. */
MTASK_API mtask_status mtask_imap_next(mtask_imap *imap, mtask_item *item, int64_t timeout);

/* Ends it, wherever it is: blocks until what runs has ended, and frees it. NULL is allowed. */
MTASK_API void mtask_imap_close(mtask_imap *imap);

/* ---- >>completed: as_completed ---- */

/* An iterator over futures as they end. One thread at a time may use it. */
typedef struct mtask_completed mtask_completed;

/* Iterates over `count` futures, of any origin, in the order in which they end; those that have
   ended come first. The same one, twice in the array, comes once. They are retained. Close it.
   MTASK_INVALID (NULL in the array), MTASK_NOMEM. */
MTASK_API mtask_status mtask_as_completed(mtask_future *const *futures, size_t count,
                                          mtask_completed **completed);

/* Blocks until the next one has ended, at most `timeout` nanoseconds. `future` receives it (it needs
   no release, and is valid until the iterator is closed), `index` (NULL allowed) its place in the
   array. MTASK_OK, MTASK_DONE: that was all, MTASK_TIMEOUT, MTASK_CANCELED, MTASK_DEADLOCK,
   MTASK_INVALID (negative), MTASK_SYSTEM. */
MTASK_API mtask_status mtask_completed_next(mtask_completed *completed, mtask_future **future,
                                            size_t *index, int64_t timeout);

/* Ends it, wherever it is; the futures go on. NULL is allowed. Does not block. */
MTASK_API void mtask_completed_close(mtask_completed *completed);

/* ---- >>job: the part that is inlined ---- */

/* A worker's jobs: an array that its owner uses as a stack, and others steal from the bottom of.
   The owner adds at `head` and takes from there; [tail, limit) are offered to thieves, under the
   lock; [limit, head) are the owner's, who takes them without any lock or fence. Below tail are
   those that were stolen and not yet synced.

   Two looks must not miss each other, as in Dijkstra's and Dekker's protocol: the owner writes
   `head` and then looks at `limit` (when it takes) or `wanted` (when it adds); the other side writes
   one of these and then looks at `head`. Both need a fence between; the owner's is a mere compiler
   barrier, because the other side's makes all threads of the process pass a fence (membarrier).
   Where the system cannot do that, `symmetric` is set, and the owner pays for one, too. */
typedef struct mtask__deque {
    mtask__host host;  /* how tasks that run on this worker wait */
    mtask_job **slots; /* by number; slots[0] is never used, so that an empty deque has a top */
    mtask_word head;   /* the next free slot: written by the owner alone */
    mtask_word end;    /* how many slots there are; 0: not allocated yet */
    mtask_word limit;  /* written under the lock */
    mtask_word wanted; /* somebody looks for jobs, or may sleep until there are some */
    bool symmetric;
    mtask_mutex lock
        __attribute__((aligned(64))); /* guards limit and tail, and slots from others */
    mtask_word tail;
} mtask__deque;

enum {
    MTASK__JOB_SPAWNED = 1, /* in a deque, or in the backlog of a pool */
    MTASK__JOB_DONE = 2,    /* value, status and text are there */
    MTASK__JOB_WAITED = 4   /* the owner may be asleep until it is done */
};

# define mtask__job_look(deque, word)                                                              \
  ((deque)->symmetric                                                                              \
       ? mtask__fence_load(&(deque)->word)                                                         \
       : (__atomic_signal_fence(__ATOMIC_SEQ_CST), mtask__load(&(deque)->word, RELAXED)))

MTASK_API mtask_status mtask__job_spawn_slow(mtask_job *job);
MTASK_API void mtask__job_offer(mtask__deque *deque);
MTASK_API mtask_status mtask__job_sync_slow(mtask_job *job, void **value);
MTASK_API mtask_status mtask__job_contest(mtask_job *job, void **value);
MTASK_API mtask_status mtask__job_failed(void **value);

MTASK__INLINE mtask_status mtask_job_spawn(mtask_job *job, mtask_fn fn, void *arg) {
    mtask__deque *deque = (mtask__deque *)mtask__here;
    mtask_word head;
    job->fn = fn;
    job->arg = arg;
    job->state = MTASK__JOB_SPAWNED;
    if (MTASK__UNLIKELY(fn == NULL || deque == NULL || (head = deque->head) >= deque->end))
        return mtask__job_spawn_slow(job);
    mtask__store(&deque->slots[head], job, RELAXED); /* the store of head publishes it */
    mtask__store(&deque->head, head + 1, RELEASE);   /* pairs with the loads of thieves */
    if (MTASK__UNLIKELY(mtask__job_look(deque, wanted) != 0))
        mtask__job_offer(deque);
    return MTASK_OK;
}

MTASK__INLINE mtask_status mtask_job_sync(mtask_job *job, void **value) {
    mtask__deque *deque = (mtask__deque *)mtask__here;
    mtask_word top;
    void *result;
    if (MTASK__UNLIKELY(deque == NULL || deque->end == 0))
        return mtask__job_sync_slow(job, value);
    top = deque->head - 1;
    if (MTASK__UNLIKELY(deque->slots[top] != job))
        return mtask__job_sync_slow(job, value);
    mtask__store(&deque->head, top, RELAXED); /* thieves who still see the old one see no `limit`
                                                 above it without the lock */
    if (MTASK__UNLIKELY(top < mtask__job_look(deque, limit)))
        return mtask__job_contest(job, value);
    result = job->fn(job->arg);
    if (MTASK__UNLIKELY(result == MTASK__FAILURE))
        return mtask__job_failed(value);
    if (value != NULL)
        *value = result;
    return MTASK_OK;
}

# ifdef __cplusplus
} /* extern "C" */
# endif

#endif /* MTASK_POOL_H */
