/* mtask_pool.h 0.6.0 - thread pools, futures by the thousand, and fork-join for C

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
       worker that waits without a time-out for a future (or several, for all of them), a group, a map
       or an imap runs what it waits for itself, if nobody has started it; otherwise it blocks, and if
       there is work the pool starts another thread in its place, up to `spare` of them. It never runs
       unrelated tasks meanwhile, so a task may hold a lock while it waits. Tasks that wait for each
       other's futures in a circle get MTASK_DEADLOCK instead of a hang, and so does the wait that
       would leave the pool with no thread at all to go on.
     - A wait for the first of several (mtask_futures_wait, mtask_as_completed) always blocks: so hold
       no lock there that tasks of the pool need.
     - A task that blocks elsewhere (a lock, a queue, a read) simply occupies its worker.
     - NULL for a pool means the default pool, made on first use: mtask_pool_default.
     - Any thread may call any function at any time, except that mtask_pool_destroy comes last.
     - After fork() the pools of the parent answer MTASK_BROKEN in the child, and so do waits for
       their futures; the child gets a default pool of its own.

   COSTS
     A job: no allocation, no atomic read-modify-write: about a nanosecond beside the function that it
     calls. A posted task: 32 bytes while it waits, no allocation of its own. A submitted one: one
     allocation.

   CONTENTS: grep for the tag.
     >>pool  >>submit  >>group  >>job  >>loop  >>map  >>imap  >>completed
     implementation: >>pool-state  >>news  >>deque  >>backlog  >>idle  >>work  >>wait-graph  >>worker
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
    unsigned spare; /* more threads, at most 1024, that stand in for workers that wait, and end when
                         they are not needed (default: 64) */
    const char *name; /* the threads are called NAME-0, NAME-1 ... (default: "Pool-N") */
    /* Runs first in each thread, with `ctx`. If it fails, the pool is broken: what waits fails with
       MTASK_BROKEN and the text of its failure (default: none). */
    mtask_fn init;
    /* Runs last in each thread whose init did not fail (default: none). */
    void (*deinit)(void *ctx);
    void *ctx;            /* for these two (default: NULL) */
    size_t backlog;       /* most tasks that wait to be started (default: no limit) */
    bool reject;          /* mtask_pool_submit and _post answer MTASK_FULL if the backlog is full
                             (default: they wait) */
    const unsigned *cpus; /* numbers of the CPUs that the threads use (default: the creator's) */
    size_t cpu_count;     /* how many of them */
    bool pin;             /* worker i runs on cpus[i % cpu_count] alone; needs `cpus` (default: on
                             all of them) */
    size_t stack_size;    /* of a thread, in bytes (default: the system's) */
    size_t jobs;          /* most jobs that a worker has spawned and not synced; what goes beyond is
                             run in place; at most 2^24 (default: 4096) */
} mtask_pool_desc;

/* Starts a pool as the description says (NULL: all default). Its threads are daemons: they do not
   keep mtask_thread_join_all waiting. Destroy it. MTASK_INVALID, MTASK_NOMEM, MTASK_SYSTEM (a
   thread could not be started, or a CPU does not exist): then nothing is left behind. */
MTASK_API mtask_status mtask_pool_create(mtask_pool **pool, const mtask_pool_desc *desc);

/* The pool that the whole program shares: made on first use, with the defaults, never destroyed.
   As mtask_pool_create. */
MTASK_API mtask_status mtask_pool_default(mtask_pool **pool);

/* The pool whose worker the caller is; NULL if it is none. */
MTASK_API mtask_pool *mtask_pool_current(void);

/* How many workers it has, without spare ones. */
MTASK_API unsigned mtask_pool_workers(const mtask_pool *pool);

/* No more tasks: submitting answers MTASK_CLOSED from now on; what was submitted is still done.
   Does not block. MTASK_OK (also if it is closed already). MTASK_BROKEN: an init failed, or after
   fork. MTASK_INVALID: it is the default pool, or NULL. */
MTASK_API mtask_status mtask_pool_close(mtask_pool *pool);

/* Closes the pool and cancels all that has not started; what runs, runs on. As mtask_pool_close. */
MTASK_API mtask_status mtask_pool_terminate(mtask_pool *pool);

/* Blocks until a closed pool has done all it had to do and its threads have ended, at most
   `timeout` nanoseconds. An imap that has not been closed, nor come to its end, is something to do.
   MTASK_OK, MTASK_TIMEOUT. MTASK_INVALID: it is not closed (the default pool never is), or the
   timeout is negative. MTASK_DEADLOCK: called by a worker of this pool. MTASK_BROKEN: a pool of the
   parent process, or an init failed. MTASK_CANCELED, MTASK_SYSTEM. */
MTASK_API mtask_status mtask_pool_join(mtask_pool *pool, int64_t timeout);

/* Closes and joins the pool, and frees it; waits for whoever still waits in mtask_pool_join. NULL
   is allowed. Futures stay valid. MTASK_OK; MTASK_DEADLOCK, and nothing happened: called by a
   worker of this pool; MTASK_INVALID: it is the default pool. */
MTASK_API mtask_status mtask_pool_destroy(mtask_pool *pool);

/* What a pool has done and has to do. Counts begin anew after SIZE_MAX. */
typedef struct mtask_pool_stats {
    size_t submitted; /* tasks, posted ones included */
    size_t done;      /* tasks that have ended, failed ones included */
    size_t failed;    /* tasks that have failed */
    size_t canceled;  /* tasks that were cancelled before they started */
    size_t stolen;    /* jobs that a worker took from another one */
    int64_t busy;     /* nanoseconds that its workers have spent not idle, all together */
    size_t pending;   /* tasks that wait to be started */
    size_t running;   /* tasks that run now */
    unsigned threads; /* threads, spare ones included */
    unsigned idle;    /* threads that have nothing to do */
    unsigned waiting; /* threads whose task waits for others */
} mtask_pool_stats;

/* What one of its threads has done. */
typedef struct mtask_worker_stats {
    size_t tasks;  /* tasks that it has run */
    size_t stolen; /* jobs that it took from others */
    int64_t busy;  /* nanoseconds that it has spent not idle */
    size_t jobs;   /* jobs in its deque */
} mtask_worker_stats;

/* Fills `stats`, and an element of `workers` (NULL allowed) for each of the first `capacity`
   workers. Does not block. MTASK_OK, MTASK_BROKEN (after fork). */
MTASK_API mtask_status mtask_pool_get_stats(mtask_pool *pool, mtask_pool_stats *stats,
                                            mtask_worker_stats *workers, size_t capacity);

/* ---- >>submit ---- */

/* Has a worker run fn(arg). `future` receives a reference on its result; give it back with
   mtask_future_release (NULL: not wanted). mtask_future_cancel takes the task out if it has not
   started. If the backlog is full, blocks, unless the pool rejects: MTASK_FULL. MTASK_CLOSED,
   MTASK_BROKEN (an init failed, or after fork), MTASK_INVALID (no fn), MTASK_NOMEM, MTASK_CANCELED,
   MTASK_DEADLOCK (called by the last thread of the pool that does not wait, with a full backlog). */
MTASK_API mtask_status mtask_pool_submit(mtask_pool *pool, mtask_fn fn, void *arg,
                                         mtask_future **future);

/* The same without a future: its value is dropped, and so is its failure (but it is counted). Needs
   no allocation of its own. */
MTASK_API mtask_status mtask_pool_post(mtask_pool *pool, mtask_fn fn, void *arg);

struct mtask_group;

/* A task with all that can be said about it. */
typedef struct mtask_task_desc {
    mtask_fn fn;               /* what to run (required) */
    void *arg;                 /* with what (default: NULL) */
    struct mtask_group *group; /* to which it belongs; of the same pool (default: none) */
    /* Frees a value that nobody took from the future, or that has no future (default: none). */
    void (*free_value)(void *value);
    /* Runs in the worker when the task has succeeded, before its future ends (default: none). */
    void (*on_success)(void *value, void *ctx);
    /* Runs likewise when it has failed; or, when it was cancelled or its pool broke before it
       started, where that happened, before the callbacks of mtask_future_then (default: none). */
    void (*on_failure)(const mtask_outcome *outcome, void *ctx);
    void *ctx; /* for these two */
} mtask_task_desc;

/* Submits a task as the description says; `future` may be NULL. Waits for room in the backlog at
   most `timeout` nanoseconds: MTASK_FULL. Otherwise as mtask_pool_submit; MTASK_INVALID also for a
   negative timeout or a group of another pool; MTASK_CANCELED also for a cancelled group. */
MTASK_API mtask_status mtask_pool_submit_ex(mtask_pool *pool, const mtask_task_desc *desc,
                                            mtask_future **future, int64_t timeout);

/* ---- >>group: wait for all of some tasks ---- */

/* A flag of groups: the first failure cancels what has not started. */
# define MTASK_FAIL_FAST (1 << 4)

/* Some tasks of a pool. It lies in the caller's memory and needs no deinit; it must live until
   mtask_group_wait has returned MTASK_OK, MTASK_FAILED or MTASK_CANCELED. One thread at a time
   waits for it. */
typedef struct mtask_group {
    mtask_pool *pool;
    size_t count;        /* tasks that have not ended; this and the rest: guarded by the pool */
    size_t pending;      /* those of them that have not started */
    size_t canceled;     /* how many were */
    mtask_word signal;   /* what waiters sleep on: see the implementation */
    int flags;           /* as given, and whether it was cancelled */
    mtask_outcome first; /* the first failure */
} mtask_group;

/* Makes an empty group for tasks of `pool`. `flags`: 0 or MTASK_FAIL_FAST. MTASK_INVALID, or as
   mtask_pool_default. */
MTASK_API mtask_status mtask_group_init(mtask_group *group, mtask_pool *pool, int flags);

/* mtask_pool_submit and mtask_pool_post of a task that belongs to the group. A task of the group
   may add others. MTASK_CANCELED: the group was cancelled. */
MTASK_API mtask_status mtask_group_submit(mtask_group *group, mtask_fn fn, void *arg,
                                          mtask_future **future);
MTASK_API mtask_status mtask_group_post(mtask_group *group, mtask_fn fn, void *arg);

/* Cancels what has not started; later submits answer MTASK_CANCELED. Does not block. */
MTASK_API mtask_status mtask_group_cancel(mtask_group *group);

/* Blocks until all its tasks have ended, at most `timeout` nanoseconds. MTASK_OK: all succeeded.
   MTASK_FAILED: `outcome` (NULL allowed) is the first failure, in time. MTASK_CANCELED: none
   failed, but some were cancelled, or the calling coroutine was (then mtask_group_pending is not
   0). MTASK_TIMEOUT, MTASK_DEADLOCK, MTASK_INVALID (negative), MTASK_SYSTEM. Then the group is
   empty and ready for more, as if made anew. */
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
    uint64_t ticket;            /* under which number; or how high the thief's deque was */
    mtask_word state;
    mtask_status status;
} mtask_job;

/* Says that fn(arg) may run now, on any worker of the caller's pool, while the caller goes on; it
   must sync the job before its function returns. It may run as late as that: jobs must not wait for
   each other, nor may a task wait for what its job will do in another way than by mtask_job_sync. A
   caller that is no worker gives the job to the
   default pool; in a coroutine, or if there is no room or memory for one more job, it runs here and
   now. MTASK_OK, MTASK_INVALID (no fn). Never fails otherwise, does not block. A worker
   allocates room for all its jobs when it spawns the first. */
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
typedef struct mtask_for_desc {
    size_t begin; /* (default: 0) */
    size_t end;   /* not below `begin` */
    size_t
        grain; /* most indices for one call (default: a 64th of each worker's share, at least 1) */
    /* Of mtask_pool_for_ex: does it. */
    void (*body)(size_t begin, size_t end, void *ctx);
    /* Of mtask_pool_reduce: adds what these indices give to *into. */
    void (*fold)(size_t begin, size_t end, void *into, void *ctx);
    /* Of mtask_pool_reduce: adds *later, of the indices behind those of *into, to *into. Must be
       associative. */
    void (*combine)(void *into, const void *later, void *ctx);
    const void *identity; /* of mtask_pool_reduce: what every part begins with */
    size_t size;          /* of mtask_pool_reduce: bytes of a result */
    void *ctx;            /* handed to these (default: NULL) */
    mtask_word *progress; /* counts the indices that are done, modulo 2^32: read it with
                             mtask_word_load while the loop runs (default: NULL) */
} mtask_for_desc;

/* Runs the body for all indices, in parts, on the workers of the pool; in a worker of it, also on
   the caller's. The parts must not wait for each other. Blocks until all is done. MTASK_OK;
   MTASK_FAILED: `outcome` (NULL allowed) tells the first failure, by index, of the parts that ran;
   MTASK_INVALID, MTASK_NOMEM, and as mtask_pool_submit. */
MTASK_API mtask_status mtask_pool_for_ex(mtask_pool *pool, const mtask_for_desc *desc,
                                         mtask_outcome *outcome);

/* The same in short. */
MTASK_API mtask_status mtask_pool_for(mtask_pool *pool, size_t begin, size_t end,
                                      void (*body)(size_t begin, size_t end, void *ctx), void *ctx);

/* Folds all indices into *result: as mtask_pool_for_ex. Parts are combined in order of their
   indices, but where they begin depends on chance: floating-point sums may differ in the last
   bits. An empty range gives the identity. Without memory for the result of a part, fewer parts are
   made. On failure *result is not meaningful. */
MTASK_API mtask_status mtask_pool_reduce(mtask_pool *pool, const mtask_for_desc *desc, void *result,
                                         mtask_outcome *outcome);

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
    mtask_word *progress;   /* as in mtask_for_desc: counts items (default: NULL) */
} mtask_map_desc;

/* Does fn to all items. Blocks until all are done. Items that fail do not stop the others.
   MTASK_OK; MTASK_FAILED: `outcome` (NULL allowed) is the failure of the first item that failed, by
   index; MTASK_INVALID, and as mtask_pool_submit. */
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
    size_t in_size;       /* bytes of an input; buffers are aligned to 64, and reused as they
                             are */
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

/* Blocks until the next result is there, at most `timeout` nanoseconds. MTASK_OK; MTASK_FAILED:
   this item failed (item->status, text), or, if item->out is NULL, the input did; the rest goes on.
   MTASK_DONE: there are no more. MTASK_TIMEOUT: try again. MTASK_DEADLOCK, MTASK_CANCELED (the
   calling coroutine, or the pool was terminated), MTASK_BROKEN (an init failed: item->text says
   why; or after fork), MTASK_INVALID (negative), MTASK_SYSTEM. */
MTASK_API mtask_status mtask_imap_next(mtask_imap *imap, mtask_item *item, int64_t timeout);

/* Ends it, wherever it is: blocks until what runs has ended, and frees it. Before the pool is
   destroyed. NULL is allowed. */
MTASK_API void mtask_imap_close(mtask_imap *imap);

/* ---- >>completed: as_completed ---- */

/* An iterator over futures as they end. One thread at a time may use it. */
typedef struct mtask_completed mtask_completed;

/* Iterates over `count` futures, of any origin, in the order in which they end; those that have
   ended come first. The same one, twice in the array, comes once. They are retained. Close it.
   MTASK_INVALID (NULL in the array), MTASK_NOMEM, MTASK_BROKEN (one of the parent process's). */
MTASK_API mtask_status mtask_as_completed(mtask_future *const *futures, size_t count,
                                          mtask_completed **completed);

/* Blocks until the next one has ended, at most `timeout` nanoseconds. `future` receives it (it
   needs no release, and is valid until the iterator is closed), `index` (NULL allowed) its place in
   the array. MTASK_OK, MTASK_DONE: that was all, MTASK_TIMEOUT, MTASK_CANCELED, MTASK_DEADLOCK,
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
    mtask_job **slots; /* by number; slots[0] is no job, but the top of an empty deque */
    mtask_job *bottom; /* NULL: slots[0] before there are others */
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
    MTASK__JOB_SPAWNED = 1, /* in a deque, or taken from there */
    MTASK__JOB_DONE = 2,    /* value, status and text are there */
    MTASK__JOB_WAITED = 4,  /* the owner may be asleep until it is done */
    MTASK__JOB_INJECTED = 8 /* it waits, or has waited, in the backlog of a pool */
};

/* What stands between the two looks of the owner. */
MTASK__INLINE void mtask__job_fence(const mtask__deque *deque) {
    if (MTASK__UNLIKELY(deque->symmetric))
        mtask__fence(); /* pairs with mtask__pools_fence, as the other does */
    else
        __atomic_signal_fence(__ATOMIC_SEQ_CST);
}

MTASK_API mtask_status mtask__job_spawn_slow(mtask_job *job);
MTASK_API void mtask__job_offer(mtask__deque *deque);
MTASK_API mtask_status mtask__job_sync_slow(mtask_job *job, void **value);
MTASK_API mtask_status mtask__job_contest(mtask_job *job, void **value);
MTASK_API mtask_status mtask__job_failed(void **value);

/* As above: to write the job down, unless that needs a closer look. */
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
    mtask__job_fence(deque);
    if (MTASK__UNLIKELY(mtask__load(&deque->wanted, RELAXED) != 0)) /* see mtask__deque */
        mtask__job_offer(deque);
    return MTASK_OK;
}

/* As above: to take the job back and run it, unless that needs a closer look. */
MTASK__INLINE mtask_status mtask_job_sync(mtask_job *job, void **value) {
    mtask__deque *deque = (mtask__deque *)mtask__here;
    mtask_word top;
    void *result;
    if (MTASK__UNLIKELY(deque == NULL))
        return mtask__job_sync_slow(job, value);
    top = deque->head - 1;
    if (MTASK__UNLIKELY(deque->slots[top] != job))
        return mtask__job_sync_slow(job, value);
    mtask__store(&deque->head, top, RELAXED); /* thieves who still see the old one see no `limit`
                                                 above it without the lock */
    mtask__job_fence(deque);
    if (MTASK__UNLIKELY(top < mtask__load(&deque->limit, RELAXED))) /* see mtask__deque */
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

/* ================================ implementation ================================ */

#if (defined(MTASK_IMPLEMENTATION) || defined(MTASK_POOL_IMPLEMENTATION)) &&                       \
    !defined(MTASK_POOL_IMPLEMENTED)
# define MTASK_POOL_IMPLEMENTED

# include <limits.h>
# include <stdio.h>
# include <stdlib.h>
# include <string.h>

# ifndef MTASK_POOL_SPIN
#  define MTASK_POOL_SPIN 128
# endif
# ifndef MTASK_POOL_DEPTH
#  define MTASK_POOL_DEPTH 64
# endif

# ifdef __cplusplus
extern "C" {
# endif

/* Makes all running threads of this process pass a full fence. False, from the first call on, if
   the system cannot. The platforms are below. */
static bool mtask__os_barrier_init(void);
static void mtask__os_barrier(void);

/* ---- >>pool-state ---- */

# define MTASK__POOL_MOST   1024 /* workers, and spare threads */
# define MTASK__POOL_SPARE  64
# define MTASK__POOL_JOBS   4096
# define MTASK__POOL_STEPS  1000         /* how far the tasks of a group are sought */
# define MTASK__POOL_LINGER MTASK_MS(50) /* how long a thread that is not needed stays */

/* A task with a future. */
typedef struct mtask__work {
    mtask_future future;
    mtask_pool *pool;
    uint64_t ticket;              /* its place in the backlog, 0: none; guarded by the pool */
    struct mtask__worker *runner; /* who runs it; valid while it is RUNNING */
    mtask_word base; /* how high its deque was when the task began; valid like `runner` */
    struct mtask_group *group;
    struct mtask__work *next; /* of those that are being cancelled together */
    void (*on_success)(void *value, void *ctx);
    void (*on_failure)(const mtask_outcome *outcome, void *ctx);
    void *ctx;
    mtask_word nonce; /* of the process in which it runs */
    bool told;        /* one of the two has been called, or will be */
} mtask__work;

/* A task in the backlog. */
typedef struct mtask__entry {
    mtask_fn fn; /* NULL: it was taken out */
    void *arg;
    mtask__work *work; /* NULL: nobody has its future */
    mtask_group *group;
} mtask__entry;

static mtask__entry mtask__entry_of(mtask_fn fn, void *arg, mtask__work *work, mtask_group *group) {
    mtask__entry entry;
    entry.fn = fn;
    entry.arg = arg;
    entry.work = work;
    entry.group = group;
    return entry;
}

/* The tasks that wait to be started, in order: a ring that grows. A place is a number that is never
   used again; a task that is taken out leaves a hole. */
typedef struct mtask__backlog {
    mtask__entry *entries;
    size_t size;    /* of the array, a power of two, or 0 */
    uint64_t first; /* the places in use: [first, last) */
    uint64_t last;
    size_t holes;
    size_t limit; /* most tasks, without the holes */
} mtask__backlog;

/* What a worker runs: the task of a pool, or a stolen job; one above the other when it does, while
   it waits, what it waits for. */
typedef struct mtask__frame {
    mtask__task task;
    mtask__task *last; /* which ran before */
    struct mtask__frame *outer;
    mtask_group *group; /* to which it belongs */
    mtask_word base;    /* head of the deque when it began */
} mtask__frame;

typedef struct mtask__worker {
    mtask__deque deque; /* the first member: hosts and deques are workers */
    mtask_pool *pool;
    unsigned index;
    unsigned depth;      /* tasks that run one above the other */
    mtask__frame *frame; /* the uppermost */
    mtask_thread thread;
    mtask_word alive; /* the thread has begun, and not ended; guarded by the pool */
    bool retired;     /* it does not count as a thread any more */
    mtask_word wake;  /* counts what may interest the worker while it sleeps in a sync */
    struct mtask__worker *followers; /* who sleeps until this worker offers jobs; guarded by the */
    struct mtask__worker *next_follower; /* deque's lock (that of the worker they follow) */
    mtask_future *awaits; /* what its uppermost task waits for, without a time-out; guarded by
                             mtask__pools.lock */
    uint64_t walk;        /* the last one that came by, and */
    mtask_word walk_base; /* from which height on it looked; guarded likewise */
    size_t tasks;         /* what it has done: written by itself alone */
    size_t failed;
    size_t stolen;
    int64_t busy;  /* guarded by the pool */
    int64_t since; /* when it became busy; 0: it is idle */
} mtask__worker;

/* Of each thread that is alive it is said whether it is: asleep (in mtask__worker_sleep), searching
   (awake, and looking for work), or neither: it runs something, of which some wait for other tasks.

   Whoever brings work wakes a sleeper, but only if none is searching; whoever has searched and found
   wakes the next one, if there is more. So wakes are as many as there is work for, one after the
   other, and none while somebody will find the work anyway. */
struct mtask_pool {
    mtask_mutex lock;   /* guards all that follows, and the groups, unless said otherwise */
    mtask_word pending; /* how many are in the backlog; read without the lock, too */
    unsigned sleeping;
    unsigned searching;
    mtask__backlog backlog;
    size_t running;   /* tasks that have been taken from the backlog and have not ended */
    unsigned waiting; /* workers whose task waits */
    unsigned threads; /* that are alive and have not retired */
    unsigned living;  /* with those that have */
    bool closed;
    bool terminated; /* what has not started will not start */
    bool broken;     /* an init failed */
    bool reject;
    unsigned submitters; /* who wait for room in the backlog, */
    mtask_word room;     /* on this, which counts */
    size_t holds;        /* iterators that will submit more */
    unsigned joiners;
    mtask_word gone; /* 1: no thread is alive, and none will be */
    mtask_word left; /* counts joiners that have left */
    size_t submitted;
    size_t canceled;
    mtask_outcome why;  /* it is broken */
    mtask_sem tokens;   /* sleepers sleep on this: one each for those that were woken */
    mtask_word forking; /* a deque is in use: there may be jobs */
    mtask_word used; /* workers from this number on have never been alive; read without it, too */
    /* what follows does not change */
    mtask_word nonce;
    unsigned workers;
    unsigned most;        /* threads: workers and spare ones */
    mtask_pool *previous; /* the default pool of the parent process */
    mtask_pool_desc desc;
    char name[MTASK_NAME_SIZE];
    bool shared;        /* the default pool */
    void *memory;       /* in which lie: */
    mtask__worker *all; /* `most` of them */
};

/* What all pools have in common. */
typedef struct mtask__pools_state {
    mtask_mutex lock;   /* guards the rest, and who waits for what; taken before that of a pool */
    mtask_word watched; /* 1: forks have been seen to */
    mtask_word ready;   /* 1: barriers have been seen to */
    uint64_t walks;     /* searches for circles */
    mtask_word names;
    bool symmetric;     /* there is no barrier */
    mtask_mutex making; /* held while the default pool is made */
    mtask_pool *shared; /* the default pool */
} mtask__pools_state;

# define mtask__pools MTASK__VERSIONED(mtask__pools)
MTASK__ONE mtask__pools_state mtask__pools;
MTASK__MERGED(mtask__pools)

static void mtask__pools_fork_prepare(void) {
    mtask__lock(&mtask__pools.lock);
}

static void mtask__pools_fork_parent(void) {
    mtask__unlock(&mtask__pools.lock);
}

static void mtask__pools_fork_child(void) {
    mtask__store(&mtask__pools.watched, 1, RELAXED);
    mtask__store(&mtask__pools.lock.word, 0, RELAXED); /* there is one thread: pairs with none */
    mtask__store(&mtask__pools.making.word, 0, RELAXED);
}

static void mtask__pools_init(void) {
    mtask__at_fork(&mtask__pools.watched, mtask__pools_fork_prepare, mtask__pools_fork_parent,
                   mtask__pools_fork_child);
    mtask__lock(&mtask__pools.lock);
    if (mtask__pools.ready == 0) {
        mtask__pools.ready = 1;
        mtask__pools.symmetric = !mtask__os_barrier_init();
    }
    mtask__unlock(&mtask__pools.lock);
}

/* The fence of the side that looks for jobs: see mtask__deque. */
static void mtask__pools_fence(void) {
    if (mtask__pools.symmetric)
        mtask__fence(); /* pairs with mtask__job_fence */
    else
        mtask__os_barrier();
}

/* Whether it is a pool of this process. */
static bool mtask__pool_is_here(const mtask_pool *pool) {
    return pool->nonce == mtask__nonce();
}

static mtask__worker *mtask__worker_here(void) {
    return (mtask__worker *)(void *)mtask__here; /* only workers are hosts */
}

/* ---- >>news: what is to be done once the pool is unlocked ---- */

typedef struct mtask__news {
    unsigned tokens;      /* sleepers to wake */
    mtask__worker *start; /* a thread to start */
    bool room;            /* somebody waits for room in the backlog */
    mtask_word *ended;    /* the signal of a group that has ended, on which somebody sleeps */
} mtask__news;

static mtask_status mtask__worker_start_spare(mtask__worker *worker);

/* Does it. The group may be gone by then: only the address is used. Once the last token is given,
   the pool may be gone, too. False: a thread could not be started. */
static bool mtask__pool_tell(mtask_pool *pool, const mtask__news *news) {
    bool done = true;
    if (news->ended != NULL)
        mtask__wake(news->ended, INT_MAX, 0);
    if (news->room)
        mtask__wake(&pool->room, 1, 0);
    if (news->start != NULL)
        done = mtask__worker_start_spare(news->start) == MTASK_OK;
    if (news->tokens > 0)
        (void)mtask_sem_release(&pool->tokens, news->tokens);
    return done;
}

static void mtask__pool_unlock(mtask_pool *pool, const mtask__news *news) {
    mtask__unlock(&pool->lock);
    (void)mtask__pool_tell(pool, news);
}

/* A thread that is not alive; NULL if all are. */
static mtask__worker *mtask__pool_vacancy(mtask_pool *pool) {
    for (unsigned i = 0; i < pool->most; i++)
        if (pool->all[i].alive == 0)
            return &pool->all[i];
    return NULL;
}

/* A thread begins to live. */
static void mtask__pool_enlist(mtask_pool *pool, mtask__worker *worker) {
    worker->alive = 1;
    pool->living++;
    pool->threads++;
    if (worker->index >= pool->used)
        mtask__store(&pool->used, worker->index + 1, RELEASE); /* pairs with mtask__pool_used */
}

/* How many workers there are to look at. */
static unsigned mtask__pool_used(const mtask_pool *pool) {
    return mtask__load(&pool->used, ACQUIRE);
}

/* How many threads neither sleep nor wait. */
static unsigned mtask__pool_active(const mtask_pool *pool) {
    return pool->threads - pool->waiting - pool->sleeping;
}

/* There is work, tasks or `jobs`: sees to it that somebody searches for it. For tasks only while
   fewer threads are active than there are workers; they are looked at again when one begins to
   wait. Jobs are not: who offers one takes back the wish, and would not tell again. But no thread
   is started for them: their owners do them in the end, and where loops are nested over several
   pools it would be one for each part. */
static void mtask__pool_rouse(mtask_pool *pool, bool jobs, mtask__news *news) {
    if (pool->searching > 0 || (!jobs && mtask__pool_active(pool) >= pool->workers))
        return;
    if (pool->sleeping > 0) {
        pool->sleeping--;
        pool->searching++;
        news->tokens++;
    } else if (pool->pending > 0 && news->start == NULL &&
               mtask__pool_active(pool) < pool->workers) {
        news->start = mtask__pool_vacancy(pool);
        if (news->start != NULL)
            mtask__pool_enlist(pool, news->start); /* it will search when it has come so far */
    }
}

/* With the pool locked: whether there is nothing to come. */
static bool mtask__pool_is_over(const mtask_pool *pool) {
    bool held = pool->holds > 0 && !pool->terminated;
    return pool->closed && pool->pending == 0 && pool->running == 0 && !held;
}

/* If there is nothing more to come, wakes all who sleep: they end. */
static void mtask__pool_check_end(mtask_pool *pool, mtask__news *news) {
    if (!mtask__pool_is_over(pool))
        return;
    news->tokens += pool->sleeping;
    pool->searching += pool->sleeping;
    pool->sleeping = 0;
}

/* ---- >>deque: jobs, and how they are stolen ---- */

/* Whether there may be something to steal. */
static bool mtask__deque_has_jobs(const mtask__deque *deque) {
    return mtask__load(&deque->head, RELAXED) > mtask__load(&deque->tail, RELAXED); /* a hint */
}

/* The first job of a worker: makes room for all. False: no memory. */
static bool mtask__deque_open(mtask__worker *worker) {
    mtask__deque *deque = &worker->deque;
    size_t size = worker->pool->desc.jobs + 1;
    mtask_job **slots = (mtask_job **)MTASK_MALLOC(size * sizeof *slots);
    if (slots == NULL)
        return false;
    slots[0] = NULL;
    mtask__lock(&deque->lock);
    deque->slots = slots;
    mtask__store(&deque->end, (mtask_word)size, RELAXED); /* others look under the lock */
    mtask__unlock(&deque->lock);
    mtask__store(&worker->pool->forking, 1, RELAXED);
    mtask__fence(); /* before the look at `wanted`; pairs with that in mtask__worker_recheck */
    return true;
}

/* With the deque locked, by its owner or anyone: offers half of the jobs, at least one. */
static void mtask__deque_share(mtask__deque *deque, mtask_word head) {
    mtask_word limit = deque->tail + (head - deque->tail + 1) / 2;
    if (head > deque->tail && limit > deque->limit)
        mtask__store(&deque->limit, limit, RELAXED); /* the owner's look: see mtask__deque */
}

/* With the deque locked, by another worker: offers jobs that the owner takes without the lock.

   Why no job is done twice: the owner stores head = i before it looks at `limit`, and takes job i
   if that is not above i; here `limit` is stored before the look at `head`, with a fence between. So
   either the owner sees the limit, and comes for the lock; or the head that is seen here is i or
   less, and job i is not offered. From the fence on, head does not fall below the limit without the
   lock. */
static void mtask__deque_force(mtask__deque *deque) {
    mtask_word before = deque->limit;
    mtask_word head;
    mtask__deque_share(deque, mtask__load(&deque->head, ACQUIRE));
    if (deque->limit == before)
        return;
    mtask__pools_fence();
    head = mtask__load(&deque->head, ACQUIRE); /* pairs with the release in mtask_job_spawn */
    if (head < deque->limit)
        mtask__store(&deque->limit, head > before ? head : before, RELAXED);
}

/* Takes the oldest job of `victim`; NULL if there is none to be had. What the owner keeps for
   itself is asked for, for its next spawn; with `force`, taken. */
static mtask_job *mtask__steal(mtask__worker *thief, mtask__worker *victim, bool force) {
    mtask__deque *deque = &victim->deque;
    mtask_job *job = NULL;
    if (!mtask__deque_has_jobs(deque)) {
        if (mtask__load(&deque->wanted, RELAXED) == 0) /* relaxed: only a wish */
            mtask__store(&deque->wanted, 1, RELAXED);
        return NULL;
    }
    mtask__lock(&deque->lock);
    if (deque->tail >= deque->limit) {
        mtask__store(&deque->wanted, 1, RELAXED);
        if (force)
            mtask__deque_force(deque);
    }
    if (deque->tail < deque->limit) {
        job = mtask__load(&deque->slots[deque->tail], RELAXED); /* ordered by lock, or the fence */
        mtask__store(&deque->tail, deque->tail + 1, RELAXED);
        job->thief = &thief->deque;
        job->ticket = thief->deque.head; /* the base of the frame in which it will run */
    }
    mtask__unlock(&deque->lock);
    return job;
}

/* Wakes those who sleep until this worker offers jobs. With the deque locked; they stay followers. */
static void mtask__deque_call_followers(mtask__worker *worker) {
    for (mtask__worker *one = worker->followers; one != NULL; one = one->next_follower) {
        mtask__add(&one->wake, 1, SEQ_CST);
        mtask__wake(&one->wake, 1, 0);
    }
}

/* The owner has spawned a job, and somebody wants one. First the wish is taken back, then it is
   fulfilled: so a wish that comes later is seen by the next spawn. */
MTASK_API void mtask__job_offer(mtask__deque *deque) {
    mtask__worker *worker = (mtask__worker *)(void *)deque;
    mtask_pool *pool = worker->pool;
    mtask__news news;
    memset(&news, 0, sizeof news);
    mtask__exchange(&deque->wanted, 0, SEQ_CST);
    mtask__lock(&deque->lock);
    mtask__deque_share(deque, deque->head);
    mtask__deque_call_followers(worker);
    mtask__unlock(&deque->lock);
    mtask__lock(&pool->lock);
    mtask__pool_rouse(pool, true, &news);
    mtask__pool_unlock(pool, &news);
}

/* ---- >>backlog: tasks that wait to be started; with the pool locked ---- */

static mtask__entry *mtask__backlog_at(const mtask__backlog *backlog, uint64_t place) {
    return &backlog->entries[(size_t)place & (backlog->size - 1)];
}

static void *mtask__run_injected(void *job);

/* Tells a task where it waits; 0: nowhere. */
static void mtask__entry_place(const mtask__entry *entry, uint64_t place) {
    if (entry->work != NULL)
        entry->work->ticket = place;
    else if (entry->fn == mtask__run_injected)
        ((mtask_job *)entry->arg)->ticket = place;
}

static size_t mtask__backlog_count(const mtask__backlog *backlog) {
    return (size_t)(backlog->last - backlog->first) - backlog->holes;
}

/* Closes the holes. */
static void mtask__backlog_compact(mtask__backlog *backlog) {
    uint64_t to = backlog->first;
    for (uint64_t from = backlog->first; from < backlog->last; from++) {
        mtask__entry entry = *mtask__backlog_at(backlog, from);
        if (entry.fn == NULL)
            continue;
        *mtask__backlog_at(backlog, to) = entry;
        mtask__entry_place(&entry, to++);
    }
    backlog->last = to;
    backlog->holes = 0;
}

/* Makes room for one more. */
static mtask_status mtask__backlog_reserve(mtask__backlog *backlog) {
    size_t used = (size_t)(backlog->last - backlog->first);
    size_t size = backlog->size > 0 ? backlog->size * 2 : 64;
    mtask__backlog bigger = *backlog;
    if (used < backlog->size)
        return MTASK_OK;
    if (backlog->holes > used / 2) {
        mtask__backlog_compact(backlog);
        return MTASK_OK;
    }
    if (size > SIZE_MAX / 2 / sizeof *bigger.entries)
        return MTASK_NOMEM;
    bigger.entries = (mtask__entry *)MTASK_MALLOC(size * sizeof *bigger.entries);
    if (bigger.entries == NULL)
        return MTASK_NOMEM;
    bigger.size = size;
    for (uint64_t place = backlog->first; place < backlog->last; place++)
        *mtask__backlog_at(&bigger, place) = *mtask__backlog_at(backlog, place);
    MTASK_FREE(backlog->entries);
    *backlog = bigger;
    return MTASK_OK;
}

/* Gives memory back that an empty backlog does not need. */
static void mtask__backlog_trim(mtask__backlog *backlog) {
    if (backlog->first == backlog->last && backlog->size > 4096) {
        MTASK_FREE(backlog->entries);
        backlog->entries = NULL;
        backlog->size = 0;
    }
}

static void mtask__pool_count_pending(mtask_pool *pool) {
    size_t count = mtask__backlog_count(&pool->backlog);
    mtask__store(&pool->pending, count < UINT32_MAX ? (mtask_word)count : UINT32_MAX, RELAXED);
} /* relaxed: searchers take it for a hint, and look again under the lock */

/* If there is room, and somebody waits for it, wakes one. */
static void mtask__pool_pass_room(mtask_pool *pool, mtask__news *news) {
    if (pool->submitters > 0 && pool->pending < pool->backlog.limit) {
        mtask__add(&pool->room, 1, RELAXED); /* under the lock, as the loads are */
        news->room = true;
    }
}

/* What was taken out is running, from now on; its place has become free. */
static void mtask__pool_begin(mtask_pool *pool, const mtask__entry *entry, mtask__news *news) {
    mtask__entry_place(entry, 0);
    if (entry->group != NULL)
        entry->group->pending--;
    pool->running++;
    mtask__pool_count_pending(pool);
    mtask__pool_pass_room(pool, news);
}

/* A worker has taken the task: nobody can cancel it from now on. (If somebody has set its future,
   which is none of their business, it is run all the same.) */
static void mtask__worker_begin(mtask__worker *worker, const mtask__entry *entry) {
    if (entry->work == NULL)
        return;
    mtask__store(&entry->work->runner, worker, RELAXED); /* published by the begin */
    entry->work->base = worker->deque.head;
    (void)mtask_future_begin(&entry->work->future);
}

/* The oldest task; false if there is none. From now on it is running. */
static bool mtask__pool_take(mtask_pool *pool, mtask__entry *entry, mtask__news *news) {
    mtask__backlog *backlog = &pool->backlog;
    while (backlog->first < backlog->last) {
        *entry = *mtask__backlog_at(backlog, backlog->first++);
        if (entry->fn == NULL) {
            backlog->holes--;
            continue;
        }
        mtask__pool_begin(pool, entry, news);
        return true;
    }
    mtask__backlog_trim(backlog);
    return false;
}

/* Takes out the task in this place. From now on it is running. */
static mtask__entry mtask__pool_take_at(mtask_pool *pool, uint64_t place, mtask__news *news) {
    mtask__backlog *backlog = &pool->backlog;
    mtask__entry entry = *mtask__backlog_at(backlog, place);
    mtask__backlog_at(backlog, place)->fn = NULL;
    backlog->holes++;
    while (backlog->last > backlog->first &&
           mtask__backlog_at(backlog, backlog->last - 1)->fn == NULL) {
        backlog->last--; /* a place may be used again if nobody holds its number */
        backlog->holes--;
    }
    mtask__pool_begin(pool, &entry, news);
    return entry;
}

/* ---- >>group ---- */

# define MTASK__GROUP_CANCELED (1 << 5) /* beside MTASK_FAIL_FAST */

enum {
    MTASK__SIGNAL_IDLE = 0, /* nobody sleeps until the group has ended */
    MTASK__SIGNAL_AWAITED = 1,
    MTASK__SIGNAL_ENDED = 2
};

/* A task of the group has ended. At zero, its waiters may free it: then only the address of the
   signal is used. */
static void mtask__group_less(mtask_group *group, size_t n, mtask__news *news) {
    group->count -= n;
    if (group->count > 0 || group->signal != MTASK__SIGNAL_AWAITED)
        return;
    mtask__store(&group->signal, MTASK__SIGNAL_ENDED, RELAXED); /* who is woken takes the lock */
    if (news->ended != NULL)
        mtask__wake(news->ended, INT_MAX, 0);
    news->ended = &group->signal;
}

/* Takes note of a failure. True if it cancels the rest. */
static bool mtask__group_fail(mtask_group *group, const mtask_outcome *outcome) {
    if (group->first.status == MTASK_OK)
        group->first = *outcome;
    if ((group->flags & (MTASK_FAIL_FAST | MTASK__GROUP_CANCELED)) != MTASK_FAIL_FAST)
        return false;
    group->flags |= MTASK__GROUP_CANCELED;
    return true;
}

/* ---- >>work: tasks with a future ---- */

static mtask__work *mtask__work_of(mtask_future *future) {
    return (mtask__work *)(void *)future; /* its first member */
}

static void mtask__work_free(mtask_future *future) {
    MTASK_FREE(mtask__work_of(future));
}

static bool mtask__work_is_lost(const mtask_future *future) {
    return ((const mtask__work *)(const void *)future)->nonce != mtask__nonce();
}

static mtask_status mtask__work_cancel(mtask_future *future);

/* Tells those who asked for it how a task ended. A worker does so before the future ends. */
static void mtask__work_tell(mtask__work *work, const mtask_outcome *outcome) {
    work->told = true;
    if (outcome->status == MTASK_OK && work->on_success != NULL)
        work->on_success(outcome->value, work->ctx);
    if (outcome->status != MTASK_OK && work->on_failure != NULL)
        work->on_failure(outcome, work->ctx);
}

/* It has ended without having run. */
static void mtask__work_ended(mtask_future *future) {
    mtask__work *work = mtask__work_of(future);
    mtask_outcome outcome;
    if (work->told)
        return;
    (void)mtask__future_outcome(future, &outcome);
    mtask__work_tell(work, &outcome);
}

static const mtask__future_kind mtask__work_kind = {mtask__work_free,
                                                    mtask__work_cancel,
                                                    mtask__work_is_lost,
                                                    mtask__work_ended,
                                                    false,
                                                    NULL,
                                                    NULL};

/* A task's end: under the lock, once its future has ended. */
static void mtask__pool_account(mtask_pool *pool, mtask_group *group, bool canceled,
                                mtask__news *news) {
    pool->running--;
    if (canceled)
        pool->canceled++;
    if (group != NULL) {
        group->canceled += canceled;
        mtask__group_less(group, 1, news);
    }
    mtask__pool_check_end(pool, news);
}

/* Ends a task that was taken and will not run: cancelled, or (`why`) failed. */
static void mtask__pool_discard(mtask_pool *pool, mtask__work *work, const mtask_outcome *why) {
    mtask__news news;
    memset(&news, 0, sizeof news);
    if (why == NULL)
        (void)mtask__future_cancel(&work->future);
    else
        (void)mtask__future_finish(&work->future, why->status, NULL, why->text);
    mtask__lock(&pool->lock);
    if (why != NULL && work->group != NULL)
        (void)mtask__group_fail(work->group, why);
    mtask__pool_account(pool, work->group, true, &news);
    mtask__pool_unlock(pool, &news);
    mtask_future_release(&work->future);
}

static bool mtask__future_is_pending(const mtask_future *future) {
    mtask_word word = mtask__load(&future->word, ACQUIRE); /* pairs with the moves of the future */
    return (word & MTASK__FUTURE_STATE) == MTASK__FUTURE_PENDING;
}

/* While a future is pending its pool lives; that is looked at under the lock which the end of a
   pool takes. */
static mtask_status mtask__work_cancel(mtask_future *future) {
    mtask__work *work = mtask__work_of(future);
    mtask_pool *pool = work->pool;
    bool taken = false;
    mtask__news news;
    memset(&news, 0, sizeof news);
    mtask__lock(&mtask__pools.lock);
    if (mtask__future_is_pending(future) && !mtask__work_is_lost(future)) {
        mtask__lock(&pool->lock);
        taken = work->ticket != 0;
        if (taken)
            (void)mtask__pool_take_at(pool, work->ticket, &news);
        mtask__pool_unlock(pool, &news);
    }
    mtask__unlock(&mtask__pools.lock);
    if (!taken) /* if somebody else has taken it out, to cancel it, this is only sooner */
        return mtask__future_cancel(future);
    mtask__pool_discard(pool, work, NULL);
    return mtask_future_canceled(future) ? MTASK_OK : MTASK_INVALID;
}

static void *mtask__imap_step(void *imap);
static void mtask__imap_abort(void *imap);

/* Takes a task out that will not run. With the pool locked. */
static void mtask__pool_take_out(mtask_pool *pool, uint64_t place, const mtask_outcome *why,
                                 mtask__work **chain, mtask__news *news) {
    mtask__entry entry = mtask__pool_take_at(pool, place, news);
    if (entry.work != NULL) {
        entry.work->next = *chain;
        *chain = entry.work;
        return;
    }
    if (entry.fn == mtask__imap_step)
        mtask__imap_abort(entry.arg);
    if (why != NULL && entry.group != NULL)
        (void)mtask__group_fail(entry.group, why);
    mtask__pool_account(pool, entry.group, true, news);
}

/* Takes out all tasks of a group (NULL: all) that wait, and cancels them, or (`why`) fails them. */
static void mtask__pool_drop(mtask_pool *pool, const mtask_group *group, const mtask_outcome *why) {
    mtask__work *chain = NULL;
    mtask__work *next;
    mtask__news news;
    memset(&news, 0, sizeof news);
    mtask__lock(&pool->lock);
    for (uint64_t place = pool->backlog.first; place < pool->backlog.last; place++) {
        const mtask__entry *entry = mtask__backlog_at(&pool->backlog, place);
        if (entry->fn != NULL && (group == NULL || entry->group == group))
            mtask__pool_take_out(pool, place, why, &chain, &news);
    }
    mtask__add(&pool->room, 1, RELAXED); /* under the lock, as the loads are */
    if (pool->submitters > 0)
        mtask__wake(&pool->room, INT_MAX, 0); /* those of the group have to leave */
    mtask__pool_unlock(pool, &news);
    for (; chain != NULL; chain = next) {
        next = chain->next;
        mtask__pool_discard(pool, chain, why);
    }
}

/* ---- >>wait-graph: workers whose tasks wait for tasks ---- */

static void mtask__worker_run(mtask__worker *worker, mtask__frame *frame,
                              const mtask__entry *entry);
static void mtask__worker_after(mtask__worker *worker, const mtask__entry *entry);

static void mtask__frame_enter(mtask__worker *worker, mtask__frame *frame) {
    mtask__task_init(&frame->task, NULL);
    frame->task.host = &worker->deque.host;
    frame->group = NULL;
    frame->base = worker->deque.head;
    frame->outer = worker->frame;
    worker->frame = frame;
    worker->depth++;
    frame->last = mtask__task_switch(&frame->task);
}

static void mtask__frame_leave(mtask__worker *worker, const mtask__frame *frame) {
    worker->depth--;
    worker->frame = frame->outer;
    (void)mtask__task_switch(frame->last);
}

/* Runs what was taken, above what runs already. */
static void mtask__worker_run_above(mtask__worker *worker, const mtask__entry *entry) {
    mtask__frame frame;
    mtask__frame_enter(worker, &frame);
    mtask__worker_run(worker, &frame, entry);
    mtask__frame_leave(worker, &frame);
    mtask__worker_after(worker, entry);
}

/* Runs the task of this future, if it is one of the worker's own pool that has not been started. */
static bool mtask__worker_help(mtask__worker *worker, mtask_future *future) {
    mtask__work *work = mtask__work_of(future);
    mtask_pool *pool = worker->pool;
    mtask__entry entry;
    mtask__news news;
    bool taken;
    if (future->kind != &mtask__work_kind || work->pool != pool || worker->depth > MTASK_POOL_DEPTH)
        return false;
    memset(&news, 0, sizeof news);
    mtask__lock(&pool->lock);
    taken = work->ticket != 0;
    if (taken) {
        entry = mtask__pool_take_at(pool, work->ticket, &news);
        mtask__worker_begin(worker, &entry);
    }
    mtask__pool_unlock(pool, &news);
    if (taken)
        mtask__worker_run_above(worker, &entry);
    return taken;
}

/* Where a task of this group waits that has not been started; 0: nowhere, or too far to seek. */
static uint64_t mtask__backlog_find(const mtask__backlog *backlog, const mtask_group *group) {
    uint64_t place = backlog->last;
    if (group->pending == 0)
        return 0;
    if (mtask__backlog_at(backlog, backlog->first)->group == group &&
        mtask__backlog_at(backlog, backlog->first)->fn != NULL)
        return backlog->first;
    for (int steps = 0; steps < MTASK__POOL_STEPS && place-- > backlog->first; steps++) {
        const mtask__entry *entry = mtask__backlog_at(backlog, place);
        if (entry->fn != NULL && entry->group == group)
            return place;
    }
    return 0;
}

/* Runs a task of this group, if it is one of the worker's own pool and there is one that has not
   been started. */
static bool mtask__worker_help_group(mtask__worker *worker, const mtask_group *group) {
    mtask_pool *pool = worker->pool;
    mtask__entry entry;
    mtask__news news;
    uint64_t place;
    if (group->pool != pool || worker->depth > MTASK_POOL_DEPTH)
        return false;
    memset(&news, 0, sizeof news);
    mtask__lock(&pool->lock);
    place = mtask__backlog_find(&pool->backlog, group);
    if (place != 0) {
        entry = mtask__pool_take_at(pool, place, &news);
        mtask__worker_begin(worker, &entry);
    }
    mtask__pool_unlock(pool, &news);
    if (place != 0)
        mtask__worker_run_above(worker, &entry);
    return place != 0;
}

/* The worker that runs the task of this future; NULL if that is not known. With mtask__pools
   locked, so that it lives. */
static mtask__worker *mtask__runner_of(mtask_future *future) {
    mtask_word word = mtask__load(&future->word, ACQUIRE); /* pairs with mtask_future_begin */
    if (future->kind != &mtask__work_kind ||
        (word & MTASK__FUTURE_STATE) != MTASK__FUTURE_RUNNING || mtask__work_is_lost(future))
        return NULL;
    return mtask__load(&mtask__work_of(future)->runner, RELAXED); /* ordered by the line above */
}

/* Who has stolen job number `i` of this worker, and how high the thief's deque was; NULL: the job
   has not been stolen, or is done. *more: there are others behind. */
static mtask__worker *mtask__thief_of(mtask__worker *from, mtask_word i, mtask_word *base,
                                      bool *more) {
    mtask__deque *deque = &from->deque;
    mtask__worker *thief = NULL;
    mtask__lock(&deque->lock); /* jobs below `tail` stay where they are meanwhile */
    *more = i < deque->tail;
    if (*more) {
        const mtask_job *job = mtask__load(&deque->slots[i], RELAXED); /* ordered by the lock */
        bool done = (mtask__load(&job->state, ACQUIRE) & MTASK__JOB_DONE) != 0; /* job_finish */
        thief = done ? NULL : (mtask__worker *)(void *)job->thief;
        *base = (mtask_word)job->ticket;
    }
    mtask__unlock(&deque->lock);
    return thief;
}

/* Whether what runs on the worker `from`, from the deque's height `base` on, can only end after the
   uppermost task of the goal: it is on the goal, or waits for a future whose task is so, or has had
   a job stolen that is so. With mtask__pools locked: nobody begins or ends a wait meanwhile, and
   what has been looked at (`walk`) need not be again. */
static bool mtask__leads_to(const mtask__worker *goal, mtask__worker *from, mtask_word base,
                            uint64_t walk) {
    mtask__worker *next;
    bool more = true;
    if (from == goal)
        return true;
    if (from->walk == walk && from->walk_base <= base)
        return false;
    from->walk = walk;
    from->walk_base = base;
    next = from->awaits != NULL ? mtask__runner_of(from->awaits) : NULL;
    if (next != NULL && mtask__leads_to(goal, next, mtask__work_of(from->awaits)->base, walk))
        return true;
    for (mtask_word i = base; more; i++) {
        mtask_word above;
        next = mtask__thief_of(from, i, &above, &more);
        if (next != NULL && mtask__leads_to(goal, next, above, walk))
            return true;
    }
    return false;
}

/* Whether the wait of `worker` for `future` would close a circle, and so never end. Each wait looks
   before it begins, under one lock, so that of several which make a circle the last one finds it;
   and a job that is stolen counts from then on, since its owner is bound to wait for it. */
static bool mtask__closes_circle(const mtask__worker *worker, mtask_future *future) {
    mtask__worker *runner = mtask__runner_of(future);
    return runner != NULL &&
           mtask__leads_to(worker, runner, mtask__work_of(future)->base, ++mtask__pools.walks);
}

/* Counts the worker among those that wait; with the pool locked. False: no thread would be left. */
static bool mtask__pool_wait_begin(mtask_pool *pool, bool refusable, mtask__news *news) {
    if (refusable && pool->waiting + 1 == pool->threads && pool->threads == pool->most)
        return false;
    pool->waiting++;
    if (pool->pending > 0)
        mtask__pool_rouse(pool, false, news);
    return true;
}

/* Whether there is work, and no thread to do it. */
static bool mtask__pool_is_stuck(mtask_pool *pool) {
    bool stuck;
    mtask__lock(&pool->lock);
    stuck = pool->pending > 0 && pool->threads == pool->waiting;
    mtask__unlock(&pool->lock);
    return stuck;
}

static void mtask__worker_wait_end(mtask__worker *worker);

/* The worker is about to wait for a future, or (NULL) for something else. */
static mtask_status mtask__worker_wait_begin(mtask__worker *worker, mtask_future *future,
                                             bool refusable) {
    mtask_pool *pool = worker->pool;
    bool fine = true;
    mtask__news news;
    memset(&news, 0, sizeof news);
    mtask__lock(&mtask__pools.lock);
    if (refusable && future != NULL)
        fine = !mtask__closes_circle(worker, future);
    if (fine) {
        mtask__lock(&pool->lock);
        fine = mtask__pool_wait_begin(pool, refusable, &news);
        mtask__unlock(&pool->lock);
    }
    if (fine)
        worker->awaits = refusable ? future : NULL; /* not if it has a time-out */
    mtask__unlock(&mtask__pools.lock);
    if (!fine)
        return MTASK_DEADLOCK;
    if (mtask__pool_tell(pool, &news) || !refusable || !mtask__pool_is_stuck(pool))
        return MTASK_OK;
    mtask__worker_wait_end(worker); /* no thread could be started in its place */
    return MTASK_DEADLOCK;
}

static void mtask__worker_wait_end(mtask__worker *worker) {
    mtask__lock(&mtask__pools.lock);
    worker->awaits = NULL;
    mtask__unlock(&mtask__pools.lock);
    mtask__lock(&worker->pool->lock);
    worker->pool->waiting--;
    mtask__unlock(&worker->pool->lock);
}

static bool mtask__host_help(mtask__host *host, mtask_future *future) {
    return mtask__worker_help((mtask__worker *)(void *)host, future);
}

static mtask_status mtask__host_enter(mtask__host *host, mtask_future *future, bool forever) {
    return mtask__worker_wait_begin((mtask__worker *)(void *)host, future, forever);
}

static void mtask__host_leave(mtask__host *host) {
    mtask__worker_wait_end((mtask__worker *)(void *)host);
}

/* Around a wait for something that is no future. One that may be refused is one that could last for
   ever and that the caller can do without. */
static mtask_status mtask__wait_begin(bool refusable) {
    mtask__worker *worker = mtask__worker_here();
    if (worker == NULL)
        return MTASK_OK;
    return mtask__worker_wait_begin(worker, NULL, refusable);
}

static void mtask__wait_end(void) {
    mtask__worker *worker = mtask__worker_here();
    if (worker != NULL)
        mtask__worker_wait_end(worker);
}

/* ---- >>submit ---- */

/* Why the pool takes no task; `insider`: what was submitted before has to submit more. */
static mtask_status mtask__pool_refusal(const mtask_pool *pool, const mtask_group *group,
                                        bool insider) {
    if (pool->broken)
        return MTASK_BROKEN;
    if (pool->terminated || (pool->closed && !insider))
        return MTASK_CLOSED;
    return group != NULL && (group->flags & MTASK__GROUP_CANCELED) != 0 ? MTASK_CANCELED : MTASK_OK;
}

/* With the pool locked, which it is not meanwhile: sleeps until there may be room.

   Why no wake-up is lost: `room` is read under the lock, under which it is counted up whenever a
   place becomes free while somebody waits; the sleep looks at it once more. */
static mtask_status mtask__pool_await_room(mtask_pool *pool, int64_t deadline) {
    mtask_word seen = mtask__load(&pool->room, RELAXED); /* under the lock */
    mtask_status status;
    pool->submitters++;
    mtask__unlock(&pool->lock);
    status = mtask__wait_begin(deadline == MTASK_FOREVER);
    if (status == MTASK_OK) {
        status = mtask__wait(&pool->room, seen, deadline, 0);
        mtask__wait_end();
    }
    mtask__lock(&pool->lock);
    pool->submitters--;
    return status;
}

/* With the pool locked: waits until it takes a task, or does not. */
static mtask_status mtask__pool_admit(mtask_pool *pool, const mtask_group *group, bool insider,
                                      int64_t deadline) {
    mtask_status woken = MTASK_OK;
    for (;;) {
        mtask_status status = mtask__pool_refusal(pool, group, insider);
        bool full = pool->pending >= pool->backlog.limit && !insider;
        if (status != MTASK_OK || (!full && (woken == MTASK_OK || woken == MTASK_TIMEOUT)))
            return status;
        if (deadline == 0 || woken == MTASK_TIMEOUT)
            return MTASK_FULL;
        if (woken != MTASK_OK)
            return woken;
        woken = mtask__pool_await_room(pool, deadline);
    }
}

/* With the pool locked. */
static void mtask__pool_push(mtask_pool *pool, const mtask__entry *entry, mtask__news *news) {
    mtask__backlog *backlog = &pool->backlog;
    *mtask__backlog_at(backlog, backlog->last) = *entry;
    mtask__entry_place(entry, backlog->last++);
    mtask__pool_count_pending(pool);
    pool->submitted++;
    if (entry->group != NULL) {
        entry->group->count++;
        entry->group->pending++;
        if (entry->group->signal == MTASK__SIGNAL_ENDED)
            entry->group->signal = MTASK__SIGNAL_IDLE;
    }
    mtask__pool_rouse(pool, false, news);
}

static mtask_status mtask__pool_enter(mtask_pool *pool, const mtask__entry *entry, bool insider,
                                      int64_t deadline) {
    mtask__news news;
    mtask_status status;
    if (!mtask__pool_is_here(pool))
        return MTASK_BROKEN;
    memset(&news, 0, sizeof news);
    mtask__lock(&pool->lock);
    status = mtask__pool_admit(pool, entry->group, insider, deadline);
    if (status == MTASK_OK)
        status = mtask__backlog_reserve(&pool->backlog);
    if (status == MTASK_OK)
        mtask__pool_push(pool, entry, &news);
    else
        mtask__pool_pass_room(pool, &news);
    mtask__pool_unlock(pool, &news);
    return status;
}

/* A task with a future, with `references` beside the pool's own, and with `extra` bytes behind it
   for its argument. */
static mtask__work *mtask__work_make(mtask_pool *pool, const mtask_task_desc *desc,
                                     mtask_word references, size_t extra) {
    mtask__work *work = (mtask__work *)MTASK_MALLOC(sizeof *work + extra);
    if (work == NULL)
        return NULL;
    memset(work, 0, sizeof *work);
    mtask__future_init(&work->future, references + 1);
    work->future.kind = &mtask__work_kind;
    if (desc->on_success != NULL || desc->on_failure != NULL)
        work->future.word |= MTASK__FUTURE_LINKED; /* mtask__work_ended is to be called */
    work->future.free_value = desc->free_value;
    work->pool = pool;
    work->group = desc->group;
    work->on_success = desc->on_success;
    work->on_failure = desc->on_failure;
    work->ctx = desc->ctx;
    work->nonce = pool->nonce;
    return work;
}

/* Submits a task that was made; or frees it. */
static mtask_status mtask__work_submit(mtask__work *work, mtask_fn fn, void *arg,
                                       mtask_future **future, int64_t deadline) {
    mtask__entry entry;
    mtask_status status;
    entry = mtask__entry_of(fn, arg, work, work->group);
    if (future != NULL)
        *future = &work->future;
    status = mtask__pool_enter(work->pool, &entry, false, deadline);
    if (status != MTASK_OK) {
        MTASK_FREE(work);
        if (future != NULL)
            *future = NULL;
    }
    return status;
}

/* Whom NULL means; in the child of a fork, pools of the parent answer later on. */
static mtask_status mtask__pool_resolve(mtask_pool **pool) {
    return *pool != NULL ? MTASK_OK : mtask_pool_default(pool);
}

MTASK_API mtask_status mtask_pool_submit_ex(mtask_pool *pool, const mtask_task_desc *desc,
                                            mtask_future **future, int64_t timeout) {
    mtask__entry entry;
    mtask__work *work;
    int64_t deadline;
    mtask_status status = mtask__deadline(timeout, &deadline);
    if (future != NULL)
        *future = NULL;
    if (status == MTASK_OK)
        status = desc == NULL || desc->fn == NULL ? MTASK_INVALID : mtask__pool_resolve(&pool);
    if (status != MTASK_OK)
        return status;
    if (desc->group != NULL && desc->group->pool != pool)
        return MTASK_INVALID;
    entry = mtask__entry_of(desc->fn, desc->arg, NULL, desc->group);
    if (future == NULL && desc->free_value == NULL && desc->on_success == NULL &&
        desc->on_failure == NULL)
        return mtask__pool_enter(pool, &entry, false, deadline);
    work = mtask__work_make(pool, desc, future != NULL ? 1 : 0, 0);
    if (work == NULL)
        return MTASK_NOMEM;
    return mtask__work_submit(work, desc->fn, desc->arg, future, deadline);
}

/* How long a short submit waits for room. */
static int64_t mtask__pool_patience(const mtask_pool *pool) {
    return pool->reject ? MTASK_NOWAIT : MTASK_FOREVER;
}

MTASK_API mtask_status mtask_pool_submit(mtask_pool *pool, mtask_fn fn, void *arg,
                                         mtask_future **future) {
    mtask_task_desc desc;
    mtask_status status = mtask__pool_resolve(&pool);
    if (future != NULL)
        *future = NULL;
    if (status != MTASK_OK)
        return status;
    memset(&desc, 0, sizeof desc);
    desc.fn = fn;
    desc.arg = arg;
    return mtask_pool_submit_ex(pool, &desc, future, mtask__pool_patience(pool));
}

/* A task of which nobody has the future. */
static mtask_status mtask__pool_post(mtask_pool *pool, mtask_fn fn, void *arg, mtask_group *group) {
    mtask__entry entry;
    if (fn == NULL)
        return MTASK_INVALID;
    entry = mtask__entry_of(fn, arg, NULL, group);
    return mtask__pool_enter(pool, &entry, false, mtask__pool_patience(pool));
}

MTASK_API mtask_status mtask_pool_post(mtask_pool *pool, mtask_fn fn, void *arg) {
    mtask_status status = mtask__pool_resolve(&pool);
    return status == MTASK_OK ? mtask__pool_post(pool, fn, arg, NULL) : status;
}

/* ---- >>group: as users see it ---- */

MTASK_API mtask_status mtask_group_init(mtask_group *group, mtask_pool *pool, int flags) {
    mtask_status status =
        (flags & ~MTASK_FAIL_FAST) != 0 ? MTASK_INVALID : mtask__pool_resolve(&pool);
    if (status != MTASK_OK)
        return status;
    memset(group, 0, sizeof *group);
    group->pool = pool;
    group->flags = flags;
    return MTASK_OK;
}

MTASK_API mtask_status mtask_group_submit(mtask_group *group, mtask_fn fn, void *arg,
                                          mtask_future **future) {
    mtask_task_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.fn = fn;
    desc.arg = arg;
    desc.group = group;
    return mtask_pool_submit_ex(group->pool, &desc, future, mtask__pool_patience(group->pool));
}

MTASK_API mtask_status mtask_group_post(mtask_group *group, mtask_fn fn, void *arg) {
    return mtask__pool_post(group->pool, fn, arg, group);
}

MTASK_API mtask_status mtask_group_cancel(mtask_group *group) {
    mtask_pool *pool = group->pool;
    if (!mtask__pool_is_here(pool))
        return MTASK_BROKEN;
    mtask__lock(&pool->lock);
    group->flags |= MTASK__GROUP_CANCELED;
    mtask__unlock(&pool->lock);
    mtask__pool_drop(pool, group, NULL);
    return MTASK_OK;
}

/* With the pool locked, and nothing pending: how it ended. Then it begins anew. */
static mtask_status mtask__group_reap(mtask_group *group, mtask_outcome *outcome) {
    mtask_status status = group->canceled > 0 ? MTASK_CANCELED : MTASK_OK;
    if (group->first.status != MTASK_OK)
        status = MTASK_FAILED;
    if (outcome != NULL) {
        *outcome = group->first;
        if (status == MTASK_CANCELED)
            outcome->status = MTASK_CANCELED;
    }
    memset(&group->first, 0, sizeof group->first);
    group->canceled = 0;
    group->flags &= ~MTASK__GROUP_CANCELED;
    group->signal = MTASK__SIGNAL_IDLE;
    return status;
}

/* Whether the caller is a task of this group, or runs above one: then it waits for itself. */
static bool mtask__group_is_own(const mtask_group *group) {
    const mtask__worker *worker = mtask__worker_here();
    const mtask__frame *frame = worker != NULL ? worker->frame : NULL;
    while (frame != NULL && frame->group != group)
        frame = frame->outer;
    return frame != NULL;
}

/* Why no wake-up is lost: the signal says AWAITED before the sleep, set under the lock under which
   the last task of the group changes it; the sleep looks at it once more. */
static mtask_status mtask__group_sleep(mtask_group *group, int64_t deadline, int flags) {
    mtask_pool *pool = group->pool;
    mtask_status status = MTASK_OK;
    for (;;) {
        mtask__lock(&pool->lock);
        if (group->count == 0 || status != MTASK_OK) {
            status = group->count == 0 ? MTASK_OK : status;
            mtask__unlock(&pool->lock);
            return status;
        }
        mtask__store(&group->signal, MTASK__SIGNAL_AWAITED, RELAXED); /* under the lock */
        mtask__unlock(&pool->lock);
        status = mtask__wait(&group->signal, MTASK__SIGNAL_AWAITED, deadline, flags);
    }
}

/* Waits as a worker does that may run tasks of the group itself, or as anybody else. */
static mtask_status mtask__group_await(mtask_group *group, int64_t deadline) {
    mtask__worker *worker = mtask__worker_here();
    bool forever = deadline == MTASK_FOREVER;
    mtask_status status;
    while (forever && worker != NULL && mtask__worker_help_group(worker, group))
        ;
    if (mtask_group_pending(group) == 0)
        return MTASK_OK;
    status = mtask__wait_begin(forever);
    if (status == MTASK_OK) {
        status = mtask__group_sleep(group, deadline, 0);
        mtask__wait_end();
    }
    return status;
}

MTASK_API mtask_status mtask_group_wait(mtask_group *group, mtask_outcome *outcome,
                                        int64_t timeout) {
    mtask_pool *pool = group->pool;
    int64_t deadline;
    mtask_status status = mtask__deadline(timeout, &deadline);
    if (status != MTASK_OK)
        return status;
    if (!mtask__pool_is_here(pool))
        return MTASK_BROKEN;
    if (mtask_group_pending(group) > 0) {
        if (deadline == 0)
            return MTASK_TIMEOUT;
        status = deadline == MTASK_FOREVER && mtask__group_is_own(group)
                     ? MTASK_DEADLOCK
                     : mtask__group_await(group, deadline);
        if (status != MTASK_OK)
            return status;
    }
    mtask__lock(&pool->lock);
    if (group->count == 0)
        status = mtask__group_reap(group, outcome);
    mtask__unlock(&pool->lock);
    return status;
}

MTASK_API size_t mtask_group_pending(const mtask_group *group) {
    size_t count;
    if (!mtask__pool_is_here(group->pool))
        return group->count;
    mtask__lock(&group->pool->lock);
    count = group->count;
    mtask__unlock(&group->pool->lock);
    return count;
}

/* ---- >>job ---- */

/* Keeps how a job ended, and says so. `owner` is whose deque it was stolen from; NULL: it waits on
   the job itself. Once the state is DONE, the job may be gone. */
static void mtask__job_finish(mtask_job *job, void *value, mtask__worker *owner) {
    mtask_word before;
    job->value = value;
    job->text = NULL;
    if (value == MTASK__FAILURE) {
        mtask_outcome outcome;
        job->status = mtask_failure(&outcome);
        job->text = (char *)MTASK_MALLOC(sizeof outcome.text);
        if (job->text != NULL) /* otherwise the text is lost, the status is not */
            memcpy(job->text, outcome.text, sizeof outcome.text);
    }
    before = mtask__or(&job->state, MTASK__JOB_DONE, ACQ_REL); /* pairs with the loads of syncs */
    if ((before & MTASK__JOB_WAITED) == 0)
        return;
    if (owner == NULL) {
        mtask__wake(&job->state, INT_MAX, 0);
    } else {
        mtask__add(&owner->wake, 1, SEQ_CST);
        mtask__wake(&owner->wake, 1, 0);
    }
}

/* Hands the result of a job that is done to the task that syncs it. */
static mtask_status mtask__job_collect(mtask_job *job, void **value) {
    if (value != NULL)
        *value = job->value;
    mtask__store(&job->state, 0, RELAXED); /* nobody else looks at it any more */
    if (job->value != MTASK__FAILURE)
        return MTASK_OK;
    (void)mtask_fail(job->status, "%s", job->text != NULL ? job->text : "");
    MTASK_FREE(job->text);
    return MTASK_FAILED;
}

/* Runs a job as part of the calling task. */
static mtask_status mtask__job_run_here(mtask_job *job, void **value) {
    void *result = job->fn(job->arg);
    if (value != NULL)
        *value = result;
    mtask__store(&job->state, 0, RELAXED); /* nobody else looks at it */
    return result == MTASK__FAILURE ? MTASK_FAILED : MTASK_OK;
}

MTASK_API mtask_status mtask__job_failed(void **value) {
    if (value != NULL)
        *value = MTASK__FAILURE;
    return MTASK_FAILED;
}

/* Empties the deque down to `base`: what is above has been synced, or was left behind by a task
   that is gone. */
static void mtask__deque_drop(mtask__worker *worker, mtask_word base) {
    mtask__deque *deque = &worker->deque;
    mtask__lock(&deque->lock);
    mtask__store(&deque->head, base, RELAXED); /* thieves look under the lock */
    if (deque->tail > base)
        mtask__store(&deque->tail, base, RELAXED);
    if (deque->limit > base)
        mtask__store(&deque->limit, base, RELAXED);
    mtask__unlock(&deque->lock);
}

/* Runs a job stolen from `owner`, as a task of its own. */
static void mtask__worker_run_job(mtask__worker *worker, mtask__worker *owner, mtask_job *job) {
    mtask__frame frame;
    void *value;
    mtask__frame_enter(worker, &frame);
    mtask__store(&worker->stolen, worker->stolen + 1, RELAXED); /* only statistics read it */
    value = job->fn(job->arg);
    if (worker->deque.head != frame.base)
        mtask__deque_drop(worker, frame.base);
    mtask__job_finish(job, value, owner);
    mtask__frame_leave(worker, &frame);
}

/* ---- >>job: given to the default pool by who is no worker ---- */

static void *mtask__run_injected(void *arg) {
    mtask_job *job = (mtask_job *)arg;
    void *value = job->fn(job->arg);
    mtask__job_finish(job, value, NULL);
    return value;
}

static bool mtask__job_inject(mtask_job *job) {
    mtask__entry entry;
    job->pool = NULL;
    if (mtask__task_current()->parker != NULL || mtask_pool_default(&job->pool) != MTASK_OK)
        return false;
    entry = mtask__entry_of(mtask__run_injected, job, NULL, NULL);
    job->state = MTASK__JOB_INJECTED;
    return mtask__pool_enter(job->pool, &entry, false, MTASK_NOWAIT) == MTASK_OK;
}

/* Takes an injected job back, if nobody has begun it. */
static bool mtask__job_take_back(mtask_job *job) {
    mtask_pool *pool = job->pool;
    bool taken;
    mtask__news news;
    memset(&news, 0, sizeof news);
    mtask__lock(&pool->lock);
    taken = job->ticket != 0;
    if (taken) {
        (void)mtask__pool_take_at(pool, job->ticket, &news);
        mtask__pool_account(pool, NULL, true, &news);
    }
    mtask__pool_unlock(pool, &news);
    return taken;
}

static mtask_status mtask__job_sync_injected(mtask_job *job, void **value) {
    mtask_word state;
    if (!mtask__pool_is_here(job->pool))
        return MTASK_BROKEN;
    if (mtask__job_take_back(job))
        return mtask__job_run_here(job, value);
    state = mtask__load(&job->state, ACQUIRE); /* pairs with mtask__job_finish */
    while ((state & MTASK__JOB_DONE) == 0) {
        mtask_word waited = state | MTASK__JOB_WAITED;
        if (state == waited || mtask__cas(&job->state, &state, waited, ACQUIRE))
            (void)mtask__wait(&job->state, waited, MTASK_FOREVER, MTASK__NOCANCEL);
        state = mtask__load(&job->state, ACQUIRE);
    }
    return mtask__job_collect(job, value);
}

MTASK_API mtask_status mtask__job_spawn_slow(mtask_job *job) {
    mtask__worker *worker = mtask__worker_here();
    job->state = 0;
    if (job->fn == NULL)
        return MTASK_INVALID;
    if (worker != NULL && worker->deque.end == 0 && mtask__deque_open(worker))
        return mtask_job_spawn(job, job->fn, job->arg);
    if (worker == NULL && mtask__job_inject(job))
        return MTASK_OK;
    job->state = 0;
    mtask__job_finish(job, job->fn(job->arg), NULL);
    return MTASK_OK;
}

MTASK_API mtask_status mtask__job_sync_slow(mtask_job *job, void **value) {
    mtask_word state = mtask__load(&job->state, ACQUIRE); /* pairs with mtask__job_finish */
    if ((state & MTASK__JOB_SPAWNED) != 0)
        return MTASK_INVALID; /* in a deque, but not on top */
    if ((state & MTASK__JOB_DONE) != 0)
        return mtask__job_collect(job, value);
    if ((state & MTASK__JOB_INJECTED) != 0)
        return mtask__job_sync_injected(job, value);
    return MTASK_INVALID;
}

/* ---- >>job: stolen ---- */

/* Enters the worker among those that `thief` wakes when it offers jobs. */
static void mtask__follow(mtask__worker *worker, mtask__worker *thief) {
    mtask__lock(&thief->deque.lock);
    worker->next_follower = thief->followers;
    thief->followers = worker;
    mtask__store(&thief->deque.wanted, 1, SEQ_CST); /* pairs with the look in mtask_job_spawn */
    mtask__unlock(&thief->deque.lock);
}

static void mtask__unfollow(mtask__worker *worker, mtask__worker *thief) {
    mtask__worker **link = &thief->followers;
    mtask__lock(&thief->deque.lock);
    while (*link != worker)
        link = &(*link)->next_follower;
    *link = worker->next_follower;
    mtask__unlock(&thief->deque.lock);
}

/* Sleeps until the job is done, or its thief offers something. Returns a job of the thief's, or
   NULL.

   Why no wake-up is lost: `wake` is read first. Then the worker says that it waits, by WAITED and by
   `wanted`, and only then looks at the job and at the thief's deque: so either it sees that there is
   something, or the other side sees that it waits, and counts `wake` up. */
static mtask_job *mtask__job_sleep(mtask__worker *worker, mtask_job *job, mtask__worker *thief) {
    mtask_word seen = mtask__load(&worker->wake, ACQUIRE); /* pairs with the adds */
    mtask_word state;
    mtask_job *found = NULL;
    mtask__follow(worker, thief);
    state = mtask__or(&job->state, MTASK__JOB_WAITED, SEQ_CST);
    if ((state & MTASK__JOB_DONE) == 0) {
        mtask__pools_fence();
        if (mtask__deque_has_jobs(&thief->deque))
            found = mtask__steal(worker, thief, true);
        if (found == NULL) {
            (void)mtask__worker_wait_begin(worker, NULL, false);
            (void)mtask__wait(&worker->wake, seen, MTASK_FOREVER, MTASK__NOCANCEL);
            mtask__worker_wait_end(worker);
        }
    }
    mtask__unfollow(worker, thief);
    return found;
}

/* Waits for a stolen job; meanwhile does what its thief offers, and nothing else: those are parts
   of what is waited for ("leapfrogging", Wagner and Calder, 1993). */
static void mtask__job_await(mtask__worker *worker, mtask_job *job) {
    mtask__worker *thief = (mtask__worker *)(void *)job->thief;
    int turns = 0;
    while ((mtask__load(&job->state, ACQUIRE) & MTASK__JOB_DONE) == 0) { /* as in sync_slow */
        mtask_job *other = mtask__steal(worker, thief, false);
        if (other == NULL && 4 * turns++ < MTASK_POOL_SPIN && mtask__spin(4))
            continue;
        if (other == NULL)
            other = mtask__job_sleep(worker, job, thief);
        if (other != NULL)
            mtask__worker_run_job(worker, thief, other);
        turns = 0;
    }
}

/* The owner wants its uppermost job, which may have been stolen, back. While it waits for the
   thief, the job keeps its place: there mtask__thief_of finds it. */
MTASK_API mtask_status mtask__job_contest(mtask_job *job, void **value) {
    mtask__worker *worker = mtask__worker_here();
    mtask__deque *deque = &worker->deque;
    mtask_word top = deque->head; /* the number of the job: it has been lowered */
    mtask__lock(&deque->lock);
    if (deque->tail <= top) {
        mtask__store(&deque->limit, deque->tail + (top - deque->tail) / 2, RELAXED);
        mtask__unlock(&deque->lock);
        return mtask__job_run_here(job, value);
    }
    mtask__store(&deque->head, top + 1, RELAXED); /* thieves look under the lock */
    mtask__unlock(&deque->lock);
    mtask__job_await(worker, job);
    mtask__deque_drop(worker, top);
    return mtask__job_collect(job, value);
}

/* ---- >>worker ---- */

/* The end of what was taken, once it has run. */
static void mtask__worker_after(mtask__worker *worker, const mtask__entry *entry) {
    mtask__news news;
    memset(&news, 0, sizeof news);
    mtask__lock(&worker->pool->lock);
    mtask__pool_account(worker->pool, entry->group, false, &news);
    mtask__pool_unlock(worker->pool, &news);
}

static void mtask__worker_count(mtask__worker *worker, bool failed) {
    mtask__store(&worker->tasks, worker->tasks + 1, RELAXED); /* only statistics read it */
    if (failed)
        mtask__store(&worker->failed, worker->failed + 1, RELAXED);
}

/* A task of a group has failed. */
static void mtask__worker_fail(mtask__worker *worker, mtask_group *group,
                               const mtask_outcome *outcome) {
    mtask_pool *pool = worker->pool;
    bool all;
    mtask__lock(&pool->lock);
    all = mtask__group_fail(group, outcome);
    mtask__unlock(&pool->lock);
    if (all)
        mtask__pool_drop(pool, group, NULL);
}

/* Runs what was taken, in a frame of its own. It is accounted for later: mtask__pool_account. */
static void mtask__worker_run(mtask__worker *worker, mtask__frame *frame,
                              const mtask__entry *entry) {
    mtask_outcome outcome;
    mtask__work *work = entry->work;
    frame->group = entry->group;
    (void)mtask__run(entry->fn, entry->arg, &outcome);
    if (worker->deque.head != frame->base) {
        mtask__deque_drop(worker, frame->base);
        (void)mtask_fail(MTASK_INVALID, "the task has spawned jobs that it did not sync");
        (void)mtask_failure(&outcome);
    }
    frame->group = NULL;
    mtask__worker_count(worker, outcome.status != MTASK_OK);
    if (outcome.status != MTASK_OK && entry->group != NULL)
        mtask__worker_fail(worker, entry->group, &outcome);
    if (work != NULL) {
        mtask__work_tell(work, &outcome);
        (void)mtask__future_finish(&work->future, outcome.status, outcome.value, outcome.text);
        mtask_future_release(&work->future);
    }
}

/* ---- >>idle: to search, to sleep, to be woken ---- */

/* Says in all deques that somebody looks for jobs. */
static void mtask__pool_arm(mtask_pool *pool) {
    for (unsigned i = 0; i < mtask__pool_used(pool); i++)
        if (mtask__load(&pool->all[i].deque.wanted, RELAXED) == 0) /* the fence comes after all */
            mtask__store(&pool->all[i].deque.wanted, 1, RELAXED);
}

/* Whether some deque has jobs. */
static bool mtask__pool_has_jobs(const mtask_pool *pool) {
    for (unsigned i = 0; i < mtask__pool_used(pool); i++)
        if (mtask__deque_has_jobs(&pool->all[i].deque))
            return true;
    return false;
}

/* A searching worker has found something: is there more, and nobody to look for it? With the pool
   locked. True: mtask__pool_watch has to be called when it is not. */
static bool mtask__pool_found(mtask_pool *pool, mtask__news *news) {
    pool->searching--;
    if (pool->searching > 0)
        return false;
    if (mtask__pool_has_jobs(pool)) /* not needed: but it saves the fence of the watch */
        mtask__pool_rouse(pool, true, news);
    else if (pool->pending > 0)
        mtask__pool_rouse(pool, false, news);
    return pool->searching == 0 && pool->sleeping > 0 && pool->threads - pool->sleeping > 1 &&
           mtask__load(&pool->forking, RELAXED) != 0;
} /* relaxed: as long as nobody has spawned, wishes that sleepers left behind still stand */

/* Nobody searches, and some sleep: from here on, spawns must be told. A spawn that was made while
   there was a searcher, and so told nobody, is seen here: wish, fence, look; against spawn, look. */
static void mtask__pool_watch(mtask_pool *pool) {
    mtask__news news;
    mtask__pool_arm(pool);
    mtask__pools_fence();
    if (!mtask__pool_has_jobs(pool))
        return;
    memset(&news, 0, sizeof news);
    mtask__lock(&pool->lock);
    if (pool->sleeping > 0)
        mtask__pool_rouse(pool, true, &news);
    mtask__pool_unlock(pool, &news);
}

/* Looks for a job of another worker. */
static mtask_job *mtask__worker_search_jobs(mtask__worker *worker, mtask__worker **owner,
                                            bool force) {
    mtask_pool *pool = worker->pool;
    unsigned used = mtask__pool_used(pool);
    for (unsigned i = 1; i < used; i++) {
        unsigned index = worker->index + i;
        mtask__worker *victim = &pool->all[index < used ? index : index - used];
        mtask_job *job = mtask__steal(worker, victim, force);
        if (job != NULL) {
            *owner = victim;
            return job;
        }
    }
    return NULL;
}

/* Looks for work for a while. A job; or NULL: there is a task in the backlog, or nothing. */
static mtask_job *mtask__worker_search(mtask__worker *worker, mtask__worker **owner, bool force) {
    mtask_pool *pool = worker->pool;
    unsigned pauses = 1;
    for (unsigned spent = 0; spent <= MTASK_POOL_SPIN; spent += pauses) {
        mtask_job *job = mtask__worker_search_jobs(worker, owner, force);
        if (job != NULL || mtask__load(&pool->pending, RELAXED) > 0) /* a hint */
            return job;
        pauses = pauses < 16 ? 2 * pauses : 16;
        if (!mtask__spin(pauses))
            return NULL;
    }
    return NULL;
}

/* Whether an init has failed. */
static bool mtask__pool_is_broken(mtask_pool *pool) {
    bool broken;
    mtask__lock(&pool->lock);
    broken = pool->broken;
    mtask__unlock(&pool->lock);
    return broken;
}

/* With the pool locked: it becomes busy, or idle. */
static void mtask__worker_clock(mtask__worker *worker, bool busy) {
    int64_t now = mtask_now();
    if (worker->since != 0)
        worker->busy += now - worker->since;
    worker->since = busy ? now : 0;
}

/* With the pool locked: whether there are more threads than are needed. */
static bool mtask__pool_has_surplus(const mtask_pool *pool) {
    return pool->threads - pool->waiting > pool->workers;
}

/* Sleeps until there is a token, and then is a searcher again. If there are spare threads, looks
   now and then whether they are needed. False: it was not, and has ended. */
static bool mtask__worker_doze(mtask__worker *worker, bool spare) {
    mtask_pool *pool = worker->pool;
    int64_t linger = MTASK__POOL_LINGER;
    bool token = false;
    for (; !token; linger *= linger < MTASK_SEC(1) ? 2 : 1) {
        if (mtask_sem_acquire(&pool->tokens, spare ? linger : MTASK_FOREVER) == MTASK_OK)
            return true;
        mtask__lock(&pool->lock);
        token = pool->sleeping == 0; /* somebody has counted it out, and sends one */
        spare = pool->threads > pool->workers;
        worker->retired = !token && mtask__pool_has_surplus(pool);
        pool->sleeping -= worker->retired;
        pool->threads -= worker->retired;
        mtask__unlock(&pool->lock);
        if (worker->retired)
            return false;
    }
    while (mtask_sem_acquire(&pool->tokens, MTASK_FOREVER) != MTASK_OK)
        mtask__yield();
    return true;
}

/* The last look before a sleep: jobs that were spawned before the wish was seen. True: it is a
   searcher again. */
static bool mtask__worker_recheck(mtask__worker *worker, unsigned awake) {
    mtask_pool *pool = worker->pool;
    bool again;
    if (mtask__fence_load(&pool->forking) == 0 || awake == 0) /* pairs with mtask__deque_open */
        return false;
    mtask__pools_fence();
    if (!mtask__pool_has_jobs(pool))
        return false;
    mtask__lock(&pool->lock);
    again = pool->sleeping > 0; /* otherwise a token is under way */
    if (again) {
        pool->sleeping--;
        pool->searching++;
    }
    mtask__unlock(&pool->lock);
    return again;
}

/* What a searcher does that has found no job. True: it is a searcher still, or again, and there may
   be something. False: it has to end. *force: there are jobs that their owner keeps.

   Why no wake-up is lost. Tasks come into the backlog under the pool's lock: either they are seen
   here, or whoever brings them sees a sleeper. Jobs are spawned without it: the wish is left in
   every deque, then comes a fence, then a look at all; the spawner stores its job, then looks for
   the wish. Either the job is seen here, or the wish is seen there, and mtask__job_offer wakes a
   sleeper, unless somebody searches, who then does the same before it sleeps, or when it has found
   something (mtask__pool_watch). */
static bool mtask__worker_sleep(mtask__worker *worker, bool *force) {
    mtask_pool *pool = worker->pool;
    unsigned awake;
    bool spare;
    bool over;
    mtask__lock(&pool->lock);
    over = mtask__pool_is_over(pool);
    if (over || (pool->pending > 0 && mtask__pool_active(pool) <= pool->workers)) {
        pool->searching -= over;
        mtask__unlock(&pool->lock);
        return !over;
    }
    pool->searching--;
    pool->sleeping++;
    awake = pool->threads - pool->sleeping;
    spare = pool->threads > pool->workers;
    mtask__pool_arm(pool);
    mtask__worker_clock(worker, false);
    mtask__unlock(&pool->lock);
    *force = mtask__worker_recheck(worker, awake);
    if (!*force && !mtask__worker_doze(worker, spare))
        return false;
    mtask__lock(&pool->lock);
    mtask__worker_clock(worker, true);
    mtask__unlock(&pool->lock);
    return true;
}

/* Takes the next task, and accounts for the last one. */
static bool mtask__worker_take(mtask__worker *worker, mtask__entry *entry, bool have,
                               bool *searching) {
    mtask_pool *pool = worker->pool;
    bool watch = false;
    mtask__news news;
    memset(&news, 0, sizeof news);
    mtask__lock(&pool->lock);
    if (have)
        mtask__pool_account(pool, entry->group, false, &news);
    /* there may be more threads than workers, once one that waited goes on: then it is its turn */
    have = mtask__pool_active(pool) <= pool->workers && mtask__pool_take(pool, entry, &news);
    if (have)
        mtask__worker_begin(worker, entry);
    if (have && *searching)
        watch = mtask__pool_found(pool, &news);
    else if (!have && !*searching)
        pool->searching++;
    *searching = !have;
    mtask__pool_unlock(pool, &news);
    if (watch)
        mtask__pool_watch(pool);
    return have;
}

/* A searcher has stolen a job. */
static void mtask__worker_found_job(mtask__worker *worker) {
    mtask_pool *pool = worker->pool;
    bool watch;
    mtask__news news;
    memset(&news, 0, sizeof news);
    mtask__lock(&pool->lock);
    watch = mtask__pool_found(pool, &news);
    mtask__pool_unlock(pool, &news);
    if (watch)
        mtask__pool_watch(pool);
}

/* Works until there is nothing to come. It begins as a searcher. */
static void mtask__worker_loop(mtask__worker *worker, mtask__frame *frame) {
    mtask__entry entry;
    mtask__worker *owner = NULL;
    mtask_job *job;
    bool have = false;
    bool searching = true;
    bool force = false;
    for (;;) {
        have = mtask__worker_take(worker, &entry, have, &searching);
        if (have) {
            mtask__task_renew(&frame->task);
            mtask__worker_run(worker, frame, &entry);
            continue;
        }
        job = mtask__worker_search(worker, &owner, force);
        force = false;
        if (job != NULL) {
            mtask__worker_found_job(worker);
            searching = false;
            mtask__worker_run_job(worker, owner, job);
        } else if (!mtask__worker_sleep(worker, &force)) {
            return;
        }
    }
}

/* The init of a thread has failed: all ends. */
static void mtask__pool_break(mtask_pool *pool, const mtask_outcome *outcome) {
    mtask_outcome why;
    mtask__news news;
    memset(&news, 0, sizeof news);
    mtask__lock(&pool->lock);
    if (!pool->broken) {
        pool->why = *outcome;
        pool->why.status = MTASK_BROKEN;
        if (pool->why.text[0] == '\0')
            (void)snprintf(pool->why.text, sizeof pool->why.text, "the init of a worker failed: %s",
                           mtask_strerror(outcome->status));
    }
    pool->closed = pool->terminated = pool->broken = true;
    why = pool->why;
    mtask__unlock(&pool->lock);
    mtask__pool_drop(pool, NULL, &why);
    mtask__lock(&pool->lock);
    mtask__pool_check_end(pool, &news);
    mtask__pool_unlock(pool, &news);
}

/* With the pool locked: the thread does not live any more. Whether it was the last one. */
static bool mtask__worker_discharge(mtask__worker *worker) {
    mtask_pool *pool = worker->pool;
    bool gone;
    mtask__worker_clock(worker, false);
    worker->alive = 0;
    pool->living--;
    if (worker->retired)
        (void)mtask_thread_detach(&worker->thread); /* nobody may come to join it */
    else
        pool->threads--;
    gone = pool->closed && pool->living == 0;
    if (gone)
        mtask__store(&pool->gone, 1, RELAXED); /* joiners look under the lock */
    return gone;
}

/* The last that a thread does with the pool. */
static void mtask__worker_end(mtask__worker *worker) {
    mtask_pool *pool = worker->pool;
    bool gone;
    mtask__lock(&pool->lock);
    gone = mtask__worker_discharge(worker);
    mtask__unlock(&pool->lock);
    if (gone)
        mtask__wake(&pool->gone, INT_MAX, 0);
}

static void *mtask__worker_main(void *arg) {
    mtask__worker *worker = (mtask__worker *)arg;
    mtask_pool *pool = worker->pool;
    mtask_outcome outcome;
    mtask__frame frame;
    if (pool->desc.init != NULL &&
        mtask__run(pool->desc.init, pool->desc.ctx, &outcome) != MTASK_OK) {
        mtask__pool_break(pool, &outcome);
    } else {
        mtask__lock(&pool->lock);
        mtask__worker_clock(worker, true);
        pool->searching++;
        mtask__unlock(&pool->lock);
        mtask__frame_enter(worker, &frame);
        mtask__worker_loop(worker, &frame);
        mtask__frame_leave(worker, &frame);
        if (pool->desc.deinit != NULL)
            pool->desc.deinit(pool->desc.ctx);
    }
    mtask__worker_end(worker);
    return NULL;
}

/* Starts the thread of a worker that counts as alive already. */
static mtask_status mtask__worker_start(mtask__worker *worker) {
    mtask_pool *pool = worker->pool;
    const mtask_pool_desc *from = &pool->desc;
    mtask_thread_desc desc;
    char name[MTASK_NAME_SIZE + 12];
    (void)mtask_thread_join(&worker->thread, NULL, MTASK_FOREVER); /* one that has ended */
    (void)snprintf(name, sizeof name, "%s-%u", pool->name, worker->index);
    memset(&desc, 0, sizeof desc);
    desc.fn = mtask__worker_main;
    desc.arg = worker;
    desc.name = name;
    desc.daemon = true;
    desc.stack_size = from->stack_size;
    desc.cpus = from->cpus;
    desc.cpu_count = from->cpu_count;
    if (from->pin && from->cpu_count > 0) {
        desc.cpus = &from->cpus[worker->index % from->cpu_count];
        desc.cpu_count = 1;
    }
    return mtask_thread_start_ex(&worker->thread, &desc);
}

/* Without a thread more, the work waits until another one is free; perhaps one that went to sleep
   because this one counted as active. */
static void mtask__worker_fail_start(mtask__worker *worker) {
    mtask_pool *pool = worker->pool;
    bool gone;
    mtask__news news;
    memset(&news, 0, sizeof news);
    mtask__lock(&pool->lock);
    gone = mtask__worker_discharge(worker);
    if (pool->pending > 0 && pool->sleeping > 0)
        mtask__pool_rouse(pool, false, &news);
    mtask__pool_unlock(pool, &news);
    if (gone)
        mtask__wake(&pool->gone, INT_MAX, 0);
}

static mtask_status mtask__worker_start_spare(mtask__worker *worker) {
    mtask_status status;
    worker->retired = false;
    status = mtask__worker_start(worker);
    if (status != MTASK_OK)
        mtask__worker_fail_start(worker);
    return status;
}

/* ---- >>pool-end: from create to destroy ---- */

static bool mtask__pool_desc_is_sound(const mtask_pool_desc *desc) {
    return desc->workers <= MTASK__POOL_MOST && desc->spare <= MTASK__POOL_MOST &&
           desc->jobs <= (size_t)1 << 24 && (desc->cpus != NULL || desc->cpu_count == 0) &&
           (!desc->pin || desc->cpu_count > 0);
}

/* Fills in what the description left open. The names of CPUs are copied behind the workers. */
static void mtask__pool_configure(mtask_pool *pool) {
    mtask_pool_desc *desc = &pool->desc;
    unsigned cpus = mtask_cpu_count();
    if (desc->workers == 0)
        desc->workers = cpus < MTASK__POOL_MOST ? cpus : MTASK__POOL_MOST;
    if (desc->spare == 0)
        desc->spare = MTASK__POOL_SPARE;
    if (desc->jobs == 0)
        desc->jobs = MTASK__POOL_JOBS;
    pool->workers = desc->workers;
    pool->most = desc->workers + desc->spare;
    pool->reject = desc->reject;
    pool->backlog.limit = desc->backlog > 0 ? desc->backlog : SIZE_MAX;
    pool->backlog.first = pool->backlog.last = 1; /* 0 is no place */
    pool->nonce = mtask__nonce();
    if (desc->name != NULL)
        (void)snprintf(pool->name, sizeof pool->name, "%s", desc->name);
    else
        (void)snprintf(pool->name, sizeof pool->name, "Pool-%u",
                       (unsigned)mtask__add(&mtask__pools.names, 1, RELAXED) +
                           1); /* only the count matters */
    desc->name = NULL;
}

static bool mtask__pool_make_workers(mtask_pool *pool) {
    size_t size = pool->most * sizeof *pool->all;
    size_t cpus = pool->desc.cpu_count * sizeof *pool->desc.cpus;
    char *memory = (char *)MTASK_MALLOC(size + 64 + cpus);
    size_t shift = 64 - (uintptr_t)memory % 64;
    if (memory == NULL)
        return false;
    memset(memory, 0, size + 64);
    pool->memory = memory;
    pool->all = (mtask__worker *)(void *)(memory + shift);
    if (cpus > 0)
        pool->desc.cpus = (const unsigned *)memcpy(memory + 64 + size, pool->desc.cpus, cpus);
    for (unsigned i = 0; i < pool->most; i++) {
        mtask__worker *worker = &pool->all[i];
        worker->pool = pool;
        worker->index = i;
        worker->deque.host.help = mtask__host_help;
        worker->deque.host.enter = mtask__host_enter;
        worker->deque.host.leave = mtask__host_leave;
        worker->deque.slots = &worker->deque.bottom;
        worker->deque.head = worker->deque.tail = worker->deque.limit = 1;
        worker->deque.wanted = 1; /* by those who sleep before it begins */
        worker->deque.symmetric = mtask__pools.symmetric;
    }
    return true;
}

/* Frees a pool that no thread uses. */
static void mtask__pool_free(mtask_pool *pool) {
    for (unsigned i = 0; pool->all != NULL && i < pool->most; i++)
        if (pool->all[i].deque.end > 0)
            MTASK_FREE(pool->all[i].deque.slots);
    MTASK_FREE(pool->backlog.entries);
    MTASK_FREE(pool->memory);
    MTASK_FREE(pool);
}

/* Blocks until no thread is alive, and all are joined. */
static mtask_status mtask__pool_await_threads(mtask_pool *pool, int64_t deadline) {
    mtask_status status = deadline == 0 ? MTASK_TIMEOUT : MTASK_OK;
    while (mtask__load(&pool->gone, ACQUIRE) == 0) { /* pairs with the unlock before the wake */
        if (status != MTASK_OK)
            return status;
        status = mtask__wait(&pool->gone, 0, deadline, 0);
    }
    mtask__lock(&pool->lock); /* the last thread has let go of it when this is had */
    mtask__unlock(&pool->lock);
    for (unsigned i = 0; i < pool->most; i++) {
        unsigned turn = 0; /* they are ending: that is sure to come */
        do {
            status = mtask_thread_join(&pool->all[i].thread, NULL, MTASK_FOREVER);
            mtask__backoff(&turn);
        } while (status == MTASK_SYSTEM || status == MTASK_CANCELED || status == MTASK_DEADLOCK);
    }
    return MTASK_OK;
}

/* The same, whatever comes. */
static void mtask__pool_outlast(mtask_pool *pool) {
    unsigned turn = 0;
    while (mtask__pool_await_threads(pool, MTASK_FOREVER) != MTASK_OK)
        mtask__backoff(&turn);
}

/* Starts all workers; if one cannot be started, ends the others. */
static mtask_status mtask__pool_start(mtask_pool *pool) {
    for (unsigned i = 0; i < pool->workers; i++) {
        mtask__worker *worker = &pool->all[i];
        mtask_status status;
        mtask__lock(&pool->lock);
        mtask__pool_enlist(pool, worker);
        mtask__unlock(&pool->lock);
        status = mtask__worker_start(worker);
        if (status != MTASK_OK) {
            (void)mtask_pool_close(pool);
            mtask__worker_end(worker);
            mtask__pool_outlast(pool);
            return status;
        }
    }
    return MTASK_OK;
}

MTASK_API mtask_status mtask_pool_create(mtask_pool **pool, const mtask_pool_desc *desc) {
    mtask_pool *made;
    mtask_status status = MTASK_NOMEM;
    *pool = NULL;
    if (desc != NULL && !mtask__pool_desc_is_sound(desc))
        return MTASK_INVALID;
    mtask__pools_init();
    made = (mtask_pool *)MTASK_MALLOC(sizeof *made);
    if (made == NULL)
        return MTASK_NOMEM;
    memset(made, 0, sizeof *made);
    if (desc != NULL)
        made->desc = *desc;
    mtask__pool_configure(made);
    if (mtask__pool_make_workers(made))
        status = mtask__pool_start(made);
    if (status != MTASK_OK) {
        mtask__pool_free(made);
        return status;
    }
    *pool = made;
    return MTASK_OK;
}

MTASK_API mtask_status mtask_pool_default(mtask_pool **pool) {
    mtask_pool *shared =
        mtask__load(&mtask__pools.shared, ACQUIRE); /* pairs with the store below */
    mtask_status status = MTASK_OK;
    if (shared == NULL || !mtask__pool_is_here(shared)) {
        mtask__pools_init();
        mtask__lock(&mtask__pools.making);
        shared = mtask__load(&mtask__pools.shared, RELAXED); /* under the lock */
        if (shared == NULL || !mtask__pool_is_here(shared)) {
            mtask_pool *previous = shared;
            status = mtask_pool_create(&shared, NULL);
            if (status == MTASK_OK) {
                shared->previous = previous; /* the parent's: not lost, only of no use */
                shared->shared = true;
                mtask__store(&mtask__pools.shared, shared, RELEASE);
            }
        }
        mtask__unlock(&mtask__pools.making);
    }
    *pool = shared;
    return status;
}

MTASK_API mtask_pool *mtask_pool_current(void) {
    mtask__worker *worker = mtask__worker_here();
    return worker != NULL ? worker->pool : NULL;
}

MTASK_API unsigned mtask_pool_workers(const mtask_pool *pool) {
    if (pool == NULL) {
        mtask_pool *shared;
        return mtask_pool_default(&shared) == MTASK_OK ? shared->workers : 0;
    }
    return pool->workers;
}

/* Closes it; with `terminate`, takes all out that waits. */
static mtask_status mtask__pool_shut(mtask_pool *pool, bool terminate) {
    mtask__news news;
    bool broken;
    if (pool == NULL)
        return MTASK_INVALID;
    if (!mtask__pool_is_here(pool))
        return MTASK_BROKEN;
    if (pool->shared)
        return MTASK_INVALID;
    memset(&news, 0, sizeof news);
    mtask__lock(&pool->lock);
    broken = pool->broken;
    pool->closed = true;
    pool->terminated = pool->terminated || terminate;
    mtask__add(&pool->room, 1, RELAXED); /* under the lock, as the loads are */
    if (pool->submitters > 0)
        mtask__wake(&pool->room, INT_MAX, 0);
    mtask__pool_check_end(pool, &news);
    mtask__pool_unlock(pool, &news);
    if (terminate)
        mtask__pool_drop(pool, NULL, NULL);
    return broken ? MTASK_BROKEN : MTASK_OK;
}

MTASK_API mtask_status mtask_pool_close(mtask_pool *pool) {
    return mtask__pool_shut(pool, false);
}

MTASK_API mtask_status mtask_pool_terminate(mtask_pool *pool) {
    return mtask__pool_shut(pool, true);
}

/* A joiner has left. Whoever frees the pool takes its lock after that. */
static void mtask__pool_leave(mtask_pool *pool) {
    bool last;
    mtask__lock(&pool->lock);
    last = --pool->joiners == 0;
    if (last)
        mtask__add(&pool->left, 1, RELAXED); /* under the lock, as the load is */
    mtask__unlock(&pool->lock);
    if (last)
        mtask__wake(&pool->left, INT_MAX, 0);
}

MTASK_API mtask_status mtask_pool_join(mtask_pool *pool, int64_t timeout) {
    int64_t deadline;
    bool closed;
    mtask_status status = mtask__deadline(timeout, &deadline);
    if (status != MTASK_OK)
        return status;
    if (pool == NULL)
        return MTASK_INVALID;
    if (!mtask__pool_is_here(pool))
        return MTASK_BROKEN;
    if (mtask_pool_current() == pool)
        return MTASK_DEADLOCK;
    mtask__lock(&pool->lock);
    closed = pool->closed;
    pool->joiners += closed;
    mtask__unlock(&pool->lock);
    if (!closed)
        return MTASK_INVALID;
    status = mtask__wait_begin(deadline == MTASK_FOREVER);
    if (status == MTASK_OK) {
        status = mtask__pool_await_threads(pool, deadline);
        mtask__wait_end();
    }
    if (status == MTASK_OK && mtask__pool_is_broken(pool))
        status = MTASK_BROKEN;
    mtask__pool_leave(pool);
    return status;
}

/* Blocks until nobody is in mtask_pool_join, nor looks at one of its futures. */
static void mtask__pool_await_joiners(mtask_pool *pool) {
    mtask__lock(&pool->lock);
    while (pool->joiners > 0) {
        mtask_word seen = mtask__load(&pool->left, RELAXED); /* under the lock */
        mtask__unlock(&pool->lock);
        (void)mtask__wait(&pool->left, seen, MTASK_FOREVER, MTASK__NOCANCEL);
        mtask__lock(&pool->lock);
    }
    mtask__unlock(&pool->lock);
    mtask__lock(&mtask__pools.lock);
    mtask__unlock(&mtask__pools.lock);
}

/* In the child of a fork: the threads of a pool of the parent do not exist. */
static void mtask__pool_bury(mtask_pool *pool) {
    for (unsigned i = 0; i < pool->most; i++)
        (void)mtask_thread_join(&pool->all[i].thread, NULL, MTASK_NOWAIT);
    mtask__pool_free(pool);
}

/* Iterators that have not come to their end keep the pool alive no more. */
static void mtask__pool_abandon(mtask_pool *pool) {
    mtask__news news;
    memset(&news, 0, sizeof news);
    mtask__lock(&pool->lock);
    pool->terminated = true; /* what waits is done all the same: nobody takes it out */
    mtask__pool_check_end(pool, &news);
    mtask__pool_unlock(pool, &news);
}

MTASK_API mtask_status mtask_pool_destroy(mtask_pool *pool) {
    if (pool == NULL)
        return MTASK_OK;
    if (pool->shared)
        return MTASK_INVALID;
    if (!mtask__pool_is_here(pool)) {
        mtask__pool_bury(pool);
        return MTASK_OK;
    }
    if (mtask_pool_current() == pool)
        return MTASK_DEADLOCK;
    (void)mtask_pool_close(pool);
    mtask__pool_abandon(pool);
    (void)mtask__wait_begin(false);
    mtask__pool_outlast(pool);
    mtask__wait_end();
    mtask__pool_await_joiners(pool);
    mtask__pool_free(pool);
    return MTASK_OK;
}

/* With the pool locked. */
static mtask_worker_stats mtask__worker_look(const mtask__worker *worker, int64_t now) {
    mtask_worker_stats stats;
    stats.tasks = mtask__load(&worker->tasks, RELAXED); /* statistics: these pair with none */
    stats.stolen = mtask__load(&worker->stolen, RELAXED);
    stats.busy = worker->busy + (worker->since != 0 ? now - worker->since : 0);
    stats.jobs = mtask__load(&worker->deque.head, RELAXED) - 1;
    return stats;
}

MTASK_API mtask_status mtask_pool_get_stats(mtask_pool *pool, mtask_pool_stats *stats,
                                            mtask_worker_stats *workers, size_t capacity) {
    mtask_status status = mtask__pool_resolve(&pool);
    int64_t now = mtask_now();
    if (status != MTASK_OK)
        return status;
    if (!mtask__pool_is_here(pool))
        return MTASK_BROKEN;
    memset(stats, 0, sizeof *stats);
    mtask__lock(&pool->lock);
    for (unsigned i = 0; i < pool->most; i++) {
        mtask_worker_stats one = mtask__worker_look(&pool->all[i], now);
        stats->done += one.tasks;
        stats->failed += mtask__load(&pool->all[i].failed, RELAXED);
        stats->stolen += one.stolen;
        stats->busy += one.busy;
        if (workers != NULL && i < capacity && i < pool->workers)
            workers[i] = one;
    }
    stats->submitted = pool->submitted;
    stats->canceled = pool->canceled;
    stats->pending = mtask__backlog_count(&pool->backlog);
    stats->running = stats->submitted - stats->canceled - stats->done - stats->pending;
    stats->threads = pool->threads;
    stats->idle = pool->sleeping + pool->searching;
    stats->waiting = pool->waiting;
    mtask__unlock(&pool->lock);
    return MTASK_OK;
}

/* ---- >>loop ---- */

/* A loop that runs. */
typedef struct mtask__loop {
    const mtask_for_desc *desc;
    size_t grain;
    size_t eager;     /* what is longer is halved in any case */
    void *result;     /* of a reduce */
    mtask_word stop;  /* a body has failed: no more parts are begun */
    bool keep_going;  /* not so: the items of a map fail one by one */
    mtask_mutex lock; /* guards the next two */
    size_t failed;    /* the least index at which a part failed */
    mtask_outcome outcome;
} mtask__loop;

/* What a thief may take: the later half of what was left. Results of parts up to this size need no
   memory of their own. */
typedef struct mtask__range {
    mtask__loop *loop;
    size_t begin;
    size_t end;
    void *into; /* where a reduce adds to; NULL: a for */
    mtask_job job;
    union {
        long double align;
        uint64_t wide;
        char bytes[64];
    } small;
} mtask__range;

/* Takes note that what began with `index` has failed, as the calling task tells. */
static void mtask__loop_fail(mtask__loop *loop, size_t index) {
    mtask__lock(&loop->lock);
    if (loop->outcome.status == MTASK_OK || index < loop->failed) {
        loop->failed = index;
        (void)mtask_failure(&loop->outcome);
    }
    mtask__unlock(&loop->lock);
    mtask__store(&loop->stop, 1, RELAXED); /* a hint to the others; the lock orders the rest */
}

/* Runs the body for a part; whether it fails shows in the task. An earlier failure of the calling
   task stands. */
static void mtask__loop_part(mtask__loop *loop, size_t begin, size_t end, void *into) {
    const mtask_for_desc *desc = loop->desc;
    mtask__task *task = mtask__task_current();
    mtask_status earlier = task->fail_status;
    task->fail_status = MTASK_OK;
    if (into != NULL)
        desc->fold(begin, end, into, desc->ctx);
    else
        desc->body(begin, end, desc->ctx);
    if (task->fail_status != MTASK_OK)
        mtask__loop_fail(loop, begin);
    else
        task->fail_status = earlier;
    if (desc->progress != NULL)
        mtask__add(desc->progress, (mtask_word)(end - begin), RELAXED); /* only a count */
}

/* Whether the worker has nothing that others could take. */
static bool mtask__loop_is_bare(void) {
    mtask__worker *worker = mtask__worker_here();
    return worker != NULL && !mtask__deque_has_jobs(&worker->deque);
}

static void mtask__loop_range(mtask__loop *loop, size_t begin, size_t end, void *into);

static void *mtask__loop_job(void *arg) {
    mtask__range *range = (mtask__range *)arg;
    mtask__loop_range(range->loop, range->begin, range->end, range->into);
    return NULL;
}

/* Where the later half of a reduce adds to; NULL: there is no memory. */
static void *mtask__range_open(mtask__range *range) {
    const mtask_for_desc *desc = range->loop->desc;
    void *into = range->small.bytes;
    if (desc->size > sizeof range->small)
        into = MTASK_MALLOC(desc->size);
    return into != NULL ? memcpy(into, desc->identity, desc->size) : NULL;
}

static void mtask__range_close(mtask__range *range, void *into) {
    const mtask_for_desc *desc = range->loop->desc;
    desc->combine(into, range->into, desc->ctx);
    if (range->into != range->small.bytes)
        MTASK_FREE(range->into);
}

/* Gives half away and does the other. False: that could not be done. */
static bool mtask__loop_split(mtask__loop *loop, size_t begin, size_t end, void *into) {
    size_t middle = begin + (end - begin) / 2;
    mtask__range later;
    later.loop = loop;
    later.begin = middle;
    later.end = end;
    later.into = into != NULL ? mtask__range_open(&later) : NULL;
    if (into != NULL && later.into == NULL)
        return false;
    (void)mtask_job_spawn(&later.job, mtask__loop_job, &later);
    mtask__loop_range(loop, begin, middle, into);
    (void)mtask_job_sync(&later.job, NULL);
    if (into != NULL)
        mtask__range_close(&later, into);
    return true;
}

/* Halves a range until all workers can have some of it. What is then left it goes through grain by
   grain, and offers half of the rest whenever nothing else is on offer ("lazy binary splitting",
   Tzannes et al., 2010). */
static void mtask__loop_range(mtask__loop *loop, size_t begin, size_t end, void *into) {
    while (begin < end &&
           (loop->keep_going || mtask__load(&loop->stop, RELAXED) == 0)) { /* a hint */
        size_t left = end - begin;
        size_t part = left < loop->grain ? left : loop->grain;
        bool split = left > part && (left > loop->eager || mtask__loop_is_bare());
        if (split && mtask__loop_split(loop, begin, end, into))
            return;
        mtask__loop_part(loop, begin, begin + part, into);
        begin += part;
    }
}

static void *mtask__loop_main(void *arg) {
    mtask__loop *loop = (mtask__loop *)arg;
    mtask__loop_range(loop, loop->desc->begin, loop->desc->end, loop->result);
    return NULL;
}

/* Waits for the end of a future; nothing can end this wait early. */
static void mtask__future_outlast(mtask_future *future) {
    unsigned turn = 0;
    while (mtask__future_sleep(future, MTASK_FOREVER, MTASK__NOCANCEL) != MTASK_OK)
        mtask__backoff(&turn);
}

/* Runs fn(arg), which does not fail, on a worker of the pool, and waits for it. */
static mtask_status mtask__pool_run(mtask_pool *pool, mtask_fn fn, void *arg) {
    mtask_future *future;
    mtask_outcome outcome;
    mtask_status status;
    if (mtask_pool_current() == pool) {
        (void)fn(arg);
        return MTASK_OK;
    }
    status = mtask_pool_submit(pool, fn, arg, &future);
    if (status != MTASK_OK)
        return status;
    status = mtask_future_wait(future, MTASK_FOREVER);
    if (status == MTASK_SYSTEM || (status != MTASK_OK && mtask_future_cancel(future) != MTASK_OK))
        mtask__future_outlast(future); /* it runs, on what is the caller's */
    if (!mtask_future_canceled(future) || status == MTASK_OK)
        status = mtask_future_get(future, &outcome, MTASK_NOWAIT);
    if (status == MTASK_FAILED) /* it has not run: the pool is broken */
        status = outcome.status;
    mtask_future_release(future);
    return status;
}

static mtask_status mtask__loop_run(mtask__loop *loop, mtask_pool *pool, mtask_outcome *outcome) {
    const mtask_for_desc *desc = loop->desc;
    size_t length = desc->end - desc->begin;
    size_t share = length / pool->workers;
    mtask_status status = MTASK_OK;
    loop->grain = desc->grain;
    if (loop->grain == 0)
        loop->grain = share >= 64 ? share / 64 : 1;
    if (loop->eager == 0)
        loop->eager = share >= 16 ? share / 16 : 1;
    if (desc->begin < desc->end)
        status = mtask__pool_run(pool, mtask__loop_main, loop);
    if (status == MTASK_OK && loop->outcome.status != MTASK_OK)
        status = MTASK_FAILED;
    if (outcome != NULL) {
        *outcome = loop->outcome;
        if (status != MTASK_FAILED)
            outcome->status = status;
    }
    return status;
}

MTASK_API mtask_status mtask_pool_for_ex(mtask_pool *pool, const mtask_for_desc *desc,
                                         mtask_outcome *outcome) {
    mtask__loop loop;
    mtask_status status = desc == NULL || desc->body == NULL || desc->begin > desc->end
                              ? MTASK_INVALID
                              : mtask__pool_resolve(&pool);
    if (status != MTASK_OK)
        return status;
    memset(&loop, 0, sizeof loop);
    loop.desc = desc;
    return mtask__loop_run(&loop, pool, outcome);
}

MTASK_API mtask_status mtask_pool_for(mtask_pool *pool, size_t begin, size_t end,
                                      void (*body)(size_t begin, size_t end, void *ctx),
                                      void *ctx) {
    mtask_for_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.begin = begin;
    desc.end = end;
    desc.body = body;
    desc.ctx = ctx;
    return mtask_pool_for_ex(pool, &desc, NULL);
}

MTASK_API mtask_status mtask_pool_reduce(mtask_pool *pool, const mtask_for_desc *desc, void *result,
                                         mtask_outcome *outcome) {
    mtask__loop loop;
    mtask_status status = MTASK_INVALID;
    if (desc != NULL && result != NULL && desc->fold != NULL && desc->combine != NULL &&
        desc->identity != NULL && desc->size > 0 && desc->begin <= desc->end)
        status = mtask__pool_resolve(&pool);
    if (status != MTASK_OK)
        return status;
    memset(&loop, 0, sizeof loop);
    loop.desc = desc;
    loop.result = memcpy(result, desc->identity, desc->size);
    return mtask__loop_run(&loop, pool, outcome);
}

/* ---- >>map ---- */

/* A map that runs: a loop over its chunks. */
typedef struct mtask__map {
    mtask_map_desc desc;
    mtask_for_desc chunks;
    mtask__loop loop;
} mtask__map;

/* Does fn to one item, as part of the calling task, and tells how it ended. */
static mtask_status mtask__item_run(mtask_item_fn fn, const void *in, void *out, void *ctx) {
    mtask__task *task = mtask__task_current();
    mtask_status earlier = task->fail_status;
    mtask_status status;
    task->fail_status = MTASK_OK;
    fn(in, out, ctx);
    status = task->fail_status;
    if (status == MTASK_OK)
        task->fail_status = earlier;
    return status;
}

static void mtask__map_item(mtask__map *map, size_t index) {
    const mtask_map_desc *desc = &map->desc;
    const char *in = (const char *)desc->in;
    char *out = (char *)desc->out;
    mtask_status status =
        mtask__item_run(desc->fn, in != NULL ? in + index * desc->in_size : NULL,
                        out != NULL ? out + index * desc->out_size : NULL, desc->ctx);
    if (desc->statuses != NULL)
        desc->statuses[index] = status;
    if (status != MTASK_OK)
        mtask__loop_fail(&map->loop, index);
}

/* The body of the loop: some chunks. */
static void mtask__map_chunks(size_t begin, size_t end, void *ctx) {
    mtask__map *map = (mtask__map *)ctx;
    mtask__task *task = mtask__task_current();
    size_t chunk = map->desc.chunk;
    size_t first = begin * chunk;
    size_t last = end > map->desc.count / chunk ? map->desc.count : end * chunk;
    for (size_t i = first; i < last; i++)
        mtask__map_item(map, i);
    task->fail_status = MTASK_OK; /* items fail, not the loop */
    if (map->desc.progress != NULL)
        mtask__add(map->desc.progress, (mtask_word)(last - first), RELAXED); /* only a count */
}

/* `map` is zeroed. */
static mtask_status mtask__map_init(mtask__map *map, const mtask_map_desc *desc,
                                    mtask_pool **pool) {
    mtask_status status = desc == NULL || desc->fn == NULL ? MTASK_INVALID : MTASK_OK;
    size_t share;
    if (status == MTASK_OK)
        status = mtask__pool_resolve(pool);
    if (status != MTASK_OK)
        return status;
    map->desc = *desc;
    share = (size_t)(*pool)->workers * 4;
    if (desc->chunk == 0)
        map->desc.chunk = desc->count / share + (desc->count % share != 0);
    if (map->desc.chunk == 0)
        map->desc.chunk = 1; /* there are no items */
    map->chunks.end = desc->count / map->desc.chunk + (desc->count % map->desc.chunk != 0);
    map->chunks.grain = 1;
    map->chunks.body = mtask__map_chunks;
    map->chunks.ctx = map;
    map->loop.desc = &map->chunks;
    map->loop.keep_going = true;
    map->loop.eager = 1; /* a chunk is worth a job */
    return MTASK_OK;
}

MTASK_API mtask_status mtask_pool_map(mtask_pool *pool, const mtask_map_desc *desc,
                                      mtask_outcome *outcome) {
    mtask__map map;
    mtask_status status;
    memset(&map, 0, sizeof map);
    status = mtask__map_init(&map, desc, &pool);
    return status == MTASK_OK ? mtask__loop_run(&map.loop, pool, outcome) : status;
}

static void *mtask__map_main(void *arg) {
    mtask__map *map = (mtask__map *)arg;
    const mtask_outcome *outcome = &map->loop.outcome;
    (void)mtask__loop_run(&map->loop, mtask_pool_current(), NULL);
    if (outcome->status == MTASK_OK)
        return NULL;
    return mtask_fail(outcome->status, "%s", outcome->text);
}

MTASK_API mtask_status mtask_pool_map_async(mtask_pool *pool, const mtask_map_desc *desc,
                                            mtask_future **future) {
    mtask_task_desc task;
    mtask__map map;
    mtask__map *kept;
    mtask__work *work;
    mtask_status status;
    if (future != NULL)
        *future = NULL;
    memset(&map, 0, sizeof map);
    status = mtask__map_init(&map, desc, &pool);
    if (status != MTASK_OK)
        return status;
    memset(&task, 0, sizeof task);
    work = mtask__work_make(pool, &task, future != NULL ? 1 : 0, sizeof map);
    if (work == NULL)
        return MTASK_NOMEM;
    kept = (mtask__map *)(void *)(work + 1);
    *kept = map;
    kept->chunks.ctx = kept;
    kept->loop.desc = &kept->chunks;
    return mtask__work_submit(work, mtask__map_main, kept, future,
                              mtask__pool_patience(pool) == 0 ? 0 : MTASK_FOREVER);
}

/* ---- >>imap ---- */

/* Some items on their way: pulled, worked on, waiting to be returned. */
typedef struct mtask__chunk {
    size_t first; /* index of the first item */
    size_t count;
    mtask_status ended; /* of the input, behind these items: MTASK_OK: it goes on */
    char *why;          /* it failed; allocated, or NULL */
    mtask_status *statuses;
    char **texts;
    char *in;
    char *out;
} mtask__chunk;

/* The items are pulled and worked on by steps, tasks of the pool. There is at most one that pulls:
   it first takes an idle chunk and fills it from the input, then has the next step submitted, and
   only then works on its items. Without an idle chunk the input stalls, until the consumer gives
   one back, and submits the next step. So the input is never read by two, nor read ahead further
   than there are chunks, and blocks nobody if it blocks. Steps put what is ready into a queue. */
struct mtask_imap {
    mtask_pool *pool;
    mtask_imap_desc desc;
    mtask_group group; /* of the steps */
    mtask_queue ready; /* numbers of chunks that are done; closed if there will be no more steps */
    size_t chunks;
    size_t in_stride;
    size_t out_stride;
    mtask__chunk *all;
    mtask_mutex lock; /* guards the next four */
    uint32_t *idle;   /* numbers of chunks that nobody uses: a stack */
    size_t idle_count;
    bool stalled; /* no step pulls, for want of a chunk */
    bool closing;
    size_t pulled; /* items; this belongs to the step that pulls */
    bool held;     /* the pool is kept open: belongs to the consumer */
    /* the rest belongs to the consumer */
    uint32_t *order; /* ordered: numbers of ready chunks plus one, by turn modulo `chunks` */
    mtask__chunk *current;
    size_t position;    /* in the current chunk */
    size_t returned;    /* chunks */
    size_t total;       /* chunks with items; SIZE_MAX: not known */
    mtask__chunk *last; /* the one that the input ended in, once that is to be told */
};

static size_t mtask__imap_turn(const mtask_imap *imap, const mtask__chunk *chunk) {
    return chunk->first / imap->desc.chunk;
}

/* Fills a chunk from the input. Runs as part of the task of the step. */
static void mtask__imap_pull(mtask_imap *imap, mtask__chunk *chunk) {
    mtask_status status = MTASK_OK;
    chunk->first = imap->pulled;
    chunk->count = 0;
    chunk->why = NULL;
    while (status == MTASK_OK && chunk->count < imap->desc.chunk) {
        mtask__task *task = mtask__task_current();
        task->fail_text[0] = '\0';
        status = imap->desc.input(chunk->in + chunk->count * imap->in_stride, imap->desc.ctx);
        chunk->count += status == MTASK_OK;
        if (status != MTASK_OK && status != MTASK_DONE && task->fail_text[0] != '\0')
            chunk->why = (char *)MTASK_MALLOC(MTASK_TEXT_SIZE);
        if (chunk->why != NULL) /* otherwise the text is lost, the status is not */
            memcpy(chunk->why, task->fail_text, MTASK_TEXT_SIZE);
    }
    chunk->ended = status;
    imap->pulled += chunk->count;
}

static void mtask__imap_work(mtask_imap *imap, mtask__chunk *chunk) {
    for (size_t i = 0; i < chunk->count; i++) {
        mtask_status status = mtask__item_run(imap->desc.fn, chunk->in + i * imap->in_stride,
                                              chunk->out + i * imap->out_stride, imap->desc.ctx);
        chunk->statuses[i] = status;
        chunk->texts[i] = NULL;
        if (status == MTASK_OK)
            continue;
        chunk->texts[i] = (char *)MTASK_MALLOC(MTASK_TEXT_SIZE);
        if (chunk->texts[i] != NULL)
            memcpy(chunk->texts[i], mtask__task_current()->fail_text, MTASK_TEXT_SIZE);
    }
}

static void mtask__imap_abort(void *arg) {
    mtask_imap *imap = (mtask_imap *)arg;
    (void)mtask_queue_close(&imap->ready);
}

/* Has the next step submitted. */
static void mtask__imap_go(mtask_imap *imap) {
    mtask__entry entry;
    entry = mtask__entry_of(mtask__imap_step, imap, NULL, &imap->group);
    if (mtask__pool_enter(imap->pool, &entry, true, MTASK_NOWAIT) != MTASK_OK)
        mtask__imap_abort(imap);
}

/* An idle chunk for the step that pulls; NULL: the input stalls, or is not wanted any more. */
static mtask__chunk *mtask__imap_take_idle(mtask_imap *imap) {
    mtask__chunk *chunk = NULL;
    mtask__lock(&imap->lock);
    if (!imap->closing && imap->idle_count > 0)
        chunk = &imap->all[imap->idle[--imap->idle_count]];
    imap->stalled = chunk == NULL;
    mtask__unlock(&imap->lock);
    return chunk;
}

static void *mtask__imap_step(void *arg) {
    mtask_imap *imap = (mtask_imap *)arg;
    mtask__chunk *chunk = mtask__imap_take_idle(imap);
    uint32_t number;
    if (chunk == NULL)
        return NULL;
    mtask__imap_pull(imap, chunk);
    if (chunk->ended == MTASK_OK)
        mtask__imap_go(imap);
    mtask__imap_work(imap, chunk);
    number = (uint32_t)(chunk - imap->all);
    (void)mtask_queue_put(&imap->ready, &number, MTASK_NOWAIT); /* there is room for all; */
    return NULL; /* closed, it was terminated: what is ready counts no more */
}

/* Gives a chunk back, and lets a stalled input go on. */
static void mtask__imap_give_back(mtask_imap *imap, mtask__chunk *chunk) {
    bool go;
    for (size_t i = 0; i < chunk->count; i++)
        MTASK_FREE(chunk->texts[i]);
    chunk->count = 0;
    mtask__lock(&imap->lock);
    imap->idle[imap->idle_count++] = (uint32_t)(chunk - imap->all);
    go = imap->stalled && !imap->closing;
    imap->stalled = false;
    mtask__unlock(&imap->lock);
    if (go)
        mtask__imap_go(imap);
}

/* Keeps the pool open for steps to come, or no more. */
static void mtask__imap_hold(mtask_imap *imap, bool hold) {
    mtask_pool *pool = imap->pool;
    mtask__news news;
    if (imap->held == hold)
        return;
    memset(&news, 0, sizeof news);
    imap->held = hold;
    mtask__lock(&pool->lock);
    pool->holds += hold;
    pool->holds -= !hold;
    mtask__pool_check_end(pool, &news);
    mtask__pool_unlock(pool, &news);
}

/* Rounds up to what buffers are aligned to; 0 if it does not fit. */
static size_t mtask__imap_align(size_t size) {
    return size > SIZE_MAX - 63 ? 0 : (size + 63) / 64 * 64;
}

/* Adds `n` times `size` bytes to *total; false if it does not fit. */
static bool mtask__imap_count(size_t *total, size_t n, size_t size) {
    if (size != 0 && n > (SIZE_MAX / 2 - *total) / size)
        return false;
    *total = mtask__imap_align(*total + n * size);
    return true;
}

/* Cuts the next `n` times `size` bytes off a block of memory. */
static void *mtask__imap_cut(char *base, size_t *total, size_t n, size_t size) {
    void *cut = base + *total;
    *total = mtask__imap_align(*total + n * size);
    return cut;
}

/* One block of memory for all; NULL: there is not so much. */
static mtask_imap *mtask__imap_allocate(const mtask_imap_desc *desc, size_t chunks) {
    size_t in = mtask__imap_align(desc->in_size);
    size_t out = mtask__imap_align(desc->out_size);
    size_t items = chunks * desc->chunk;
    size_t total = 64 + mtask__imap_align(sizeof(mtask_imap));
    mtask_imap *imap;
    char *base;
    if (chunks > SIZE_MAX / desc->chunk || (in == 0) != (desc->in_size == 0) ||
        (out == 0) != (desc->out_size == 0) ||
        !mtask__imap_count(&total, chunks, sizeof(mtask__chunk)) ||
        !mtask__imap_count(&total, chunks, 2 * sizeof(uint32_t)) ||
        !mtask__imap_count(&total, items, sizeof(mtask_status)) ||
        !mtask__imap_count(&total, items, sizeof(char *)) ||
        !mtask__imap_count(&total, items, in) || !mtask__imap_count(&total, items, out))
        return NULL;
    imap = (mtask_imap *)MTASK_MALLOC(total + 128);
    if (imap == NULL)
        return NULL;
    memset(imap, 0, sizeof *imap);
    imap->chunks = chunks;
    imap->in_stride = in;
    imap->out_stride = out;
    base = (char *)imap + sizeof *imap;
    base += 64 - (uintptr_t)base % 64;
    total = 0;
    imap->all = (mtask__chunk *)mtask__imap_cut(base, &total, chunks, sizeof(mtask__chunk));
    imap->idle = (uint32_t *)mtask__imap_cut(base, &total, chunks, 2 * sizeof(uint32_t));
    imap->order = imap->idle + chunks;
    imap->all[0].statuses =
        (mtask_status *)mtask__imap_cut(base, &total, items, sizeof(mtask_status));
    imap->all[0].texts = (char **)mtask__imap_cut(base, &total, items, sizeof(char *));
    imap->all[0].in = (char *)mtask__imap_cut(base, &total, items, in);
    imap->all[0].out = (char *)mtask__imap_cut(base, &total, items, out);
    return imap;
}

static void mtask__imap_share_out(mtask_imap *imap) {
    size_t chunk = imap->desc.chunk;
    mtask__chunk *first = &imap->all[0];
    for (size_t i = imap->chunks; i-- > 0;) {
        imap->idle[imap->idle_count++] = (uint32_t)i;
        imap->order[i] = 0;
        imap->all[i].count = 0;
        imap->all[i].why = NULL;
        imap->all[i].statuses = first->statuses + i * chunk;
        imap->all[i].texts = first->texts + i * chunk;
        imap->all[i].in = first->in + i * chunk * imap->in_stride;
        imap->all[i].out = first->out + i * chunk * imap->out_stride;
    }
}

/* How it is to be: with the defaults filled in. */
static mtask_status mtask__imap_configure(mtask_imap_desc *desc, const mtask_pool *pool,
                                          size_t *chunks) {
    if (desc->fn == NULL || desc->input == NULL)
        return MTASK_INVALID;
    if (desc->chunk == 0)
        desc->chunk = 1;
    *chunks = (size_t)pool->workers * 2;
    if (desc->ahead > 0)
        *chunks = desc->ahead / desc->chunk + (desc->ahead % desc->chunk != 0);
    return *chunks < UINT32_MAX ? MTASK_OK : MTASK_INVALID;
}

static mtask_status mtask__imap_start(mtask_imap *imap) {
    mtask_queue_desc ready;
    mtask_status status;
    memset(&ready, 0, sizeof ready);
    ready.capacity = imap->chunks;
    ready.item_size = sizeof(uint32_t);
    status = mtask_queue_init(&imap->ready, &ready);
    if (status != MTASK_OK)
        return status;
    imap->ready.calm = true;
    (void)mtask_group_init(&imap->group, imap->pool, 0);
    mtask__lock(&imap->pool->lock);
    status = mtask__pool_refusal(imap->pool, NULL, false);
    if (status == MTASK_OK)
        imap->pool->holds++;
    mtask__unlock(&imap->pool->lock);
    if (status == MTASK_OK) {
        imap->held = true;
        mtask__imap_go(imap);
    } else {
        (void)mtask_queue_deinit(&imap->ready);
    }
    return status;
}

MTASK_API mtask_status mtask_pool_imap(mtask_pool *pool, const mtask_imap_desc *desc,
                                       mtask_imap **imap) {
    mtask_imap_desc full;
    mtask_imap *made;
    size_t chunks;
    mtask_status status = desc == NULL ? MTASK_INVALID : mtask__pool_resolve(&pool);
    *imap = NULL;
    if (status != MTASK_OK)
        return status;
    if (!mtask__pool_is_here(pool))
        return MTASK_BROKEN;
    full = *desc;
    status = mtask__imap_configure(&full, pool, &chunks);
    if (status != MTASK_OK)
        return status;
    made = mtask__imap_allocate(&full, chunks);
    if (made == NULL)
        return MTASK_NOMEM;
    made->desc = full;
    made->pool = pool;
    made->total = SIZE_MAX;
    mtask__imap_share_out(made);
    status = mtask__imap_start(made);
    if (status != MTASK_OK) {
        MTASK_FREE(made);
        return status;
    }
    *imap = made;
    return MTASK_OK;
}

MTASK_API mtask_status mtask_pool_imap_unordered(mtask_pool *pool, const mtask_imap_desc *desc,
                                                 mtask_imap **imap) {
    mtask_imap_desc unordered;
    *imap = NULL;
    if (desc == NULL)
        return MTASK_INVALID;
    unordered = *desc;
    unordered.unordered = true;
    return mtask_pool_imap(pool, &unordered, imap);
}

/* The next number of a chunk that is done. A worker of the same pool takes the next step itself, if
   nobody else does. */
static mtask_status mtask__imap_await(mtask_imap *imap, uint32_t *number, int64_t deadline) {
    mtask__worker *worker = mtask__worker_here();
    bool forever = deadline == MTASK_FOREVER;
    mtask_status status = mtask_queue_get(&imap->ready, number, MTASK_NOWAIT);
    while (status == MTASK_EMPTY && forever && worker != NULL &&
           mtask__worker_help_group(worker, &imap->group))
        status = mtask_queue_get(&imap->ready, number, MTASK_NOWAIT);
    if (status == MTASK_EMPTY && deadline != 0) {
        status = mtask__wait_begin(forever);
        if (status != MTASK_OK)
            return status;
        status = mtask_queue_get(&imap->ready, number, mtask_until(deadline));
        mtask__wait_end();
    }
    if (status == MTASK_EMPTY)
        return MTASK_TIMEOUT;
    return status == MTASK_CLOSED ? MTASK_CANCELED : status;
}

/* A chunk has come. */
static void mtask__imap_arrive(mtask_imap *imap, uint32_t number) {
    mtask__chunk *chunk = &imap->all[number];
    size_t turn = mtask__imap_turn(imap, chunk);
    if (chunk->ended != MTASK_OK) {
        imap->total = turn + (chunk->count > 0);
        imap->last = chunk;
        mtask__imap_hold(imap, false);
    }
    if (!imap->desc.unordered)
        imap->order[turn % imap->chunks] = number + 1;
    else if (chunk->count > 0)
        imap->current = chunk;
}

/* In order: the chunk whose turn it is, if it has come. */
static void mtask__imap_choose(mtask_imap *imap) {
    uint32_t *place = &imap->order[imap->returned % imap->chunks];
    if (imap->desc.unordered || *place == 0 || imap->returned == imap->total)
        return;
    imap->current = &imap->all[*place - 1];
    *place = 0;
}

/* Gets the next chunk. MTASK_DONE: there is none. */
static mtask_status mtask__imap_advance(mtask_imap *imap, int64_t deadline) {
    imap->position = 0;
    for (;;) {
        uint32_t number;
        mtask_status status;
        mtask__imap_choose(imap);
        if (imap->current != NULL)
            return MTASK_OK;
        if (imap->returned == imap->total)
            return MTASK_DONE;
        status = mtask__imap_await(imap, &number, deadline);
        if (status != MTASK_OK)
            return status;
        mtask__imap_arrive(imap, number);
    }
}

/* All items have been returned: is there a failure of the input to tell? Once. */
static mtask_status mtask__imap_finish(mtask_imap *imap, mtask_item *item) {
    mtask__chunk *last = imap->last;
    if (last == NULL || last->ended == MTASK_DONE)
        return MTASK_DONE;
    item->index = last->first + last->count;
    item->status = last->ended;
    item->text = last->why != NULL ? last->why : "";
    imap->last = NULL;
    return MTASK_FAILED;
}

MTASK_API mtask_status mtask_imap_next(mtask_imap *imap, mtask_item *item, int64_t timeout) {
    mtask__chunk *chunk = imap->current;
    size_t at;
    int64_t deadline;
    mtask_status status = mtask__deadline(timeout, &deadline);
    memset(item, 0, sizeof *item);
    item->text = "";
    if (status != MTASK_OK)
        return status;
    if (!mtask__pool_is_here(imap->pool))
        return MTASK_BROKEN;
    if (chunk != NULL && imap->position == chunk->count) {
        imap->current = NULL;
        imap->returned++;
        if (chunk != imap->last)
            mtask__imap_give_back(imap, chunk);
    }
    if (imap->current == NULL)
        status = mtask__imap_advance(imap, deadline);
    if (status == MTASK_CANCELED && mtask__pool_is_broken(imap->pool)) {
        status = MTASK_BROKEN;
        item->text = imap->pool->why.text; /* does not change any more */
    }
    if (status != MTASK_OK)
        return status == MTASK_DONE ? mtask__imap_finish(imap, item) : status;
    chunk = imap->current;
    at = imap->position++;
    item->index = chunk->first + at;
    item->in = chunk->in + at * imap->in_stride;
    item->out = chunk->out + at * imap->out_stride;
    item->status = chunk->statuses[at];
    item->text = chunk->texts[at] != NULL ? chunk->texts[at] : "";
    return item->status == MTASK_OK ? MTASK_OK : MTASK_FAILED;
}

MTASK_API void mtask_imap_close(mtask_imap *imap) {
    unsigned turn = 0;
    if (imap == NULL)
        return;
    if (mtask__pool_is_here(imap->pool)) {
        mtask__lock(&imap->lock);
        imap->closing = true;
        mtask__unlock(&imap->lock);
        (void)mtask_group_cancel(&imap->group);
        (void)mtask__wait_begin(false);
        while (mtask__group_sleep(&imap->group, MTASK_FOREVER, MTASK__NOCANCEL) != MTASK_OK)
            mtask__backoff(&turn);
        mtask__wait_end();
        mtask__imap_hold(imap, false);
    }
    for (size_t i = 0; i < imap->chunks; i++) {
        for (size_t j = 0; j < imap->all[i].count; j++)
            MTASK_FREE(imap->all[i].texts[j]);
        MTASK_FREE(imap->all[i].why);
    }
    (void)mtask_queue_deinit(&imap->ready);
    MTASK_FREE(imap);
}

/* ---- >>completed ---- */

/* A future that is waited for. */
typedef struct mtask__pick {
    mtask__listener listener; /* its first member */
    mtask_completed *completed;
    mtask_future *future; /* NULL: it stands in the array before */
} mtask__pick;

struct mtask_completed {
    mtask_queue ended; /* indices, as they end; has room for all */
    mtask_word nonce;  /* of the process that waits */
    size_t left;       /* not returned yet */
    size_t tried;      /* up to here a worker has offered its help */
    size_t count;
    mtask__pick *picks;
};

/* A future has ended. Called under its lock, or before it was linked. */
static void mtask__pick_fire(mtask__listener *listener) {
    mtask__pick *pick = (mtask__pick *)(void *)listener;
    size_t index = (size_t)(pick - pick->completed->picks);
    (void)mtask_queue_put(&pick->completed->ended, &index, MTASK_NOWAIT);
}

static int mtask__pick_compare(const void *a, const void *b) {
    const mtask__pick *const *left = (const mtask__pick *const *)a;
    const mtask__pick *const *right = (const mtask__pick *const *)b;
    uintptr_t one = (uintptr_t)(*left)->future;
    uintptr_t other = (uintptr_t)(*right)->future;
    if (one == other) /* of the same ones, the first in the array comes first */
        return *left < *right ? -1 : 1;
    return one < other ? -1 : 1;
}

/* Takes out the futures that stand in the array for the second time. */
static mtask_status mtask__completed_unify(mtask_completed *completed) {
    size_t count = completed->count;
    mtask__pick **sorted;
    mtask_future *last = NULL;
    sorted = (mtask__pick **)MTASK_MALLOC((count > 0 ? count : 1) * sizeof *sorted);
    if (sorted == NULL)
        return MTASK_NOMEM;
    for (size_t i = 0; i < count; i++)
        sorted[i] = &completed->picks[i];
    qsort(sorted, count, sizeof *sorted, mtask__pick_compare);
    for (size_t i = 0; i < count; i++) {
        mtask_future *future = sorted[i]->future;
        if (future == last)
            sorted[i]->future = NULL;
        else
            completed->left++;
        last = future;
    }
    MTASK_FREE(sorted);
    return MTASK_OK;
}

static mtask_status mtask__completed_init(mtask_completed *completed,
                                          mtask_future *const *futures) {
    mtask_queue_desc ended;
    mtask_status status;
    memset(completed->picks, 0, completed->count * sizeof *completed->picks);
    for (size_t i = 0; i < completed->count; i++) {
        completed->picks[i].completed = completed;
        completed->picks[i].listener.fire = mtask__pick_fire;
        completed->picks[i].future = futures[i];
    }
    status = mtask__completed_unify(completed);
    if (status != MTASK_OK)
        return status;
    memset(&ended, 0, sizeof ended);
    ended.capacity = completed->count > 0 ? completed->count : 1;
    ended.item_size = sizeof(size_t);
    return mtask_queue_init(&completed->ended, &ended);
}

MTASK_API mtask_status mtask_as_completed(mtask_future *const *futures, size_t count,
                                          mtask_completed **completed) {
    mtask_completed *made;
    mtask_status status;
    *completed = NULL;
    for (size_t i = 0; i < count; i++)
        if (futures[i] == NULL)
            return MTASK_INVALID;
    for (size_t i = 0; i < count; i++)
        if (futures[i]->kind == &mtask__work_kind && mtask__work_is_lost(futures[i]) &&
            !mtask_future_done(futures[i]))
            return MTASK_BROKEN;
    if (count > (SIZE_MAX / 2 - sizeof *made) / sizeof *made->picks)
        return MTASK_NOMEM;
    made = (mtask_completed *)MTASK_MALLOC(sizeof *made + count * sizeof *made->picks);
    if (made == NULL)
        return MTASK_NOMEM;
    memset(made, 0, sizeof *made);
    made->count = count;
    made->nonce = mtask__nonce();
    made->picks = (mtask__pick *)(void *)(made + 1);
    status = mtask__completed_init(made, futures);
    if (status != MTASK_OK) {
        MTASK_FREE(made);
        return status;
    }
    for (size_t i = 0; i < count; i++)
        if (made->picks[i].future != NULL)
            mtask__future_listen(mtask_future_retain(made->picks[i].future),
                                 &made->picks[i].listener);
    *completed = made;
    return MTASK_OK;
}

/* Runs one that nobody has started, if the caller is a worker of its pool. */
static bool mtask__completed_help(mtask_completed *completed) {
    mtask__worker *worker = mtask__worker_here();
    bool helped = false;
    while (worker != NULL && !helped && completed->tried < completed->count) {
        mtask_future *future = completed->picks[completed->tried++].future;
        helped = future != NULL && mtask__worker_help(worker, future);
    }
    return helped;
}

/* A worker waits like anybody else: which one ends first is not known. Only if it must not, it runs
   one of them. */
static mtask_status mtask__completed_await(mtask_completed *completed, size_t *at,
                                           int64_t deadline) {
    mtask_status status = mtask_queue_get(&completed->ended, at, MTASK_NOWAIT);
    if (status != MTASK_EMPTY || deadline == 0)
        return status;
    status = mtask__wait_begin(deadline == MTASK_FOREVER);
    if (status == MTASK_DEADLOCK && mtask__completed_help(completed))
        return mtask_queue_get(&completed->ended, at, MTASK_NOWAIT);
    if (status != MTASK_OK)
        return status;
    status = mtask_queue_get(&completed->ended, at, mtask_until(deadline));
    mtask__wait_end();
    return status;
}

MTASK_API mtask_status mtask_completed_next(mtask_completed *completed, mtask_future **future,
                                            size_t *index, int64_t timeout) {
    size_t at;
    int64_t deadline;
    mtask_status status = mtask__deadline(timeout, &deadline);
    *future = NULL;
    if (status != MTASK_OK)
        return status;
    if (completed->nonce != mtask__nonce())
        return MTASK_BROKEN;
    if (completed->left == 0)
        return MTASK_DONE;
    status = mtask__completed_await(completed, &at, deadline);
    if (status != MTASK_OK)
        return status == MTASK_EMPTY ? MTASK_TIMEOUT : status;
    completed->left--;
    *future = completed->picks[at].future;
    if (index != NULL)
        *index = at;
    return MTASK_OK;
}

MTASK_API void mtask_completed_close(mtask_completed *completed) {
    if (completed == NULL)
        return;
    for (size_t i = 0; i < completed->count; i++) {
        mtask__pick *pick = &completed->picks[i];
        if (pick->future == NULL)
            continue;
        mtask__future_unlisten(pick->future, &pick->listener);
        mtask_future_release(pick->future);
    }
    (void)mtask_queue_deinit(&completed->ended);
    MTASK_FREE(completed);
}

/* ---- >>linux-barrier: membarrier ---- */

# if defined(__linux__) && !defined(MTASK_PLATFORM_CUSTOM) && !defined(MTASK_FORCE_POSIX) &&       \
     !defined(MTASK_NO_THREADS)
#  include <errno.h>
#  include <sys/syscall.h>
#  include <unistd.h>

/* As in linux/membarrier.h, which old systems lack. */
#  define MTASK__BARRIER          (1 << 3)
#  define MTASK__BARRIER_REGISTER (1 << 4)

static bool mtask__os_barrier_init(void) {
#  ifdef SYS_membarrier
    int saved = errno;
    bool done = syscall(SYS_membarrier, MTASK__BARRIER_REGISTER, 0, 0) == 0;
    errno = saved;
    return done;
#  else
    return false;
#  endif
}

static void mtask__os_barrier(void) {
#  ifdef SYS_membarrier
    int saved = errno;
    (void)syscall(SYS_membarrier, MTASK__BARRIER, 0, 0); /* once registered, it does not fail */
    errno = saved;
#  endif
}
# endif

/* ---- >>posix-barrier: none ---- */

# if defined(MTASK_FORCE_POSIX) || defined(MTASK_PLATFORM_CUSTOM) || defined(MTASK_NO_THREADS)
static bool mtask__os_barrier_init(void) {
    return false;
}

static void mtask__os_barrier(void) {
}
# endif

# ifdef __cplusplus
} /* extern "C" */
# endif

#endif /* MTASK_POOL_IMPLEMENTATION */
