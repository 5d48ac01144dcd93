/* mtask_queue.h 0.6.0 - FIFO, LIFO and priority queues for C

   Python's `queue` in one header: bounded or unbounded, blocking with time-outs, task_done and
   join, close; and Go's `select` over several queues, a descriptor for poll and epoll, queues in
   storage of your own that never allocate, queues in memory that processes share and that survive
   a killed one. It stands on mtask.h.

   USE
     Copy this file and mtask.h. In ONE .c (or .cpp) file, before any other include:

         #define MTASK_IMPLEMENTATION
         #include "mtask_queue.h"

     and in the others just `#include "mtask_queue.h"`. Compile with -pthread.

   EXAMPLE (cc -O2 -pthread example.c)

         #define MTASK_IMPLEMENTATION
         #include "mtask_queue.h"
         #include <stdio.h>

         MTASK_QUEUE_TYPE(numbers, int);

         static void *squares(void *queue) {
             for (int i = 1; i <= 5; i++)
                 numbers_put(queue, i * i, MTASK_FOREVER);
             numbers_close(queue);
             return NULL;
         }

         int main(void) {
             numbers queue;
             int n;
             if (numbers_init(&queue, 2) != MTASK_OK ||
                 mtask_thread_spawn(squares, &queue) != MTASK_OK)
                 return 1;
             while (numbers_get(&queue, &n, MTASK_FOREVER) == MTASK_OK)
                 printf("%d\n", n);
             mtask_thread_join_all(MTASK_FOREVER);
             numbers_deinit(&queue);
             return 0;
         }

   WHAT HOLDS FOR ALL QUEUES
     - Items are copied in and out: any size from one byte on, no pointer to them is kept.
     - Linearizable: each call takes effect at one moment between its start and its return. FIFO is
       first in, first out across all producers; a put answers MTASK_FULL, a get MTASK_EMPTY, only
       if the queue was full or empty at such a moment, or the time was up.
     - A bounded queue holds exactly `capacity` items, allocates when it is made and never again.
     - Who waits sleeps: an idle queue uses no CPU. A few pauses are spun before.
     - Any number of threads (and coroutines) may use a queue at once, and all its functions, except
       for init, attach and deinit.
     - A put, get, close or task_done on a queue of one process is through with it at the moment it
       takes effect: whoever then knows that nobody else uses the queue may end and free it, though
       the call has not returned yet. The getter of the last item, say.

   COSTS
     One atomic read-modify-write for a put and one for a get; for a whole batch no more.
     Memory: capacity x item_size bytes (priority: capacity x (item_size + 8)), 576 at most for the
     queue itself, and 104 for its handle.

   CONTENTS: grep for the tag.
     >>queue  >>select  >>queue-layout  >>queue-type
     implementation: >>queue-side  >>queue-gate  >>queue-ring  >>queue-heap  >>queue-robust
     >>queue-array  >>queue-move  >>queue-done  >>queue-listen  >>queue-make
     platforms: >>linux-notifier  >>posix-notifier  >>no-notifier

   OPTIONS (define them before the include, the same in every file)
     MTASK_NO_STB_DS         do without stb_ds.h (Debian: libstb-dev): unbounded queues answer
                             MTASK_UNSUPPORTED, as they do where it is not found
     MTASK_QUEUE_SPIN        pauses that a put or get makes before it sleeps, at most (default: 128,
                             about 3 microseconds; on one CPU none)
     and those of mtask.h.
     MTASK_QUEUE_IMPLEMENTATION instead of MTASK_IMPLEMENTATION implements this header alone, in a
     file other than the one that implements mtask.h.

   LICENCE: MIT or public domain, at your choice; see the end of mtask.h. */

#include "mtask.h"

#ifndef MTASK_QUEUE_H
# define MTASK_QUEUE_H

# include <string.h>

# ifdef __cplusplus
extern "C" {
# endif

/* ---- >>queue: queue.Queue, LifoQueue and PriorityQueue ---- */

/* In which order items come out. */
typedef enum mtask_queue_kind {
    MTASK_FIFO,    /* first in, first out */
    MTASK_LIFO,    /* last in, first out: a stack */
    MTASK_PRIORITY /* least first, by `compare`; of equal ones, first in, first out */
} mtask_queue_kind;

/* No limit: the queue grows. A put never waits; it answers MTASK_NOMEM if it cannot grow. */
# define MTASK_UNBOUNDED SIZE_MAX

/* The alignment of storage handed to a queue, in bytes. */
# define MTASK_QUEUE_ALIGN 64

/* How many bytes of storage a queue needs that is bounded to `capacity` items of `item_size` bytes:
   a constant expression, enough for each kind. mtask_queue_storage_size gives the exact number. */
# define MTASK_QUEUE_STORAGE_SIZE(capacity, item_size)                                             \
  (MTASK__QUEUE_CORE_SIZE + ((size_t)(capacity) * (size_t)(item_size) + 3) / 4 * 4 +               \
   (size_t)(capacity)*8)

/* Declares the array `name` as storage for such a queue: static MTASK_QUEUE_STORAGE(buffer, 16,
   sizeof(job)); */
# define MTASK_QUEUE_STORAGE(name, capacity, item_size)                                            \
  unsigned char name[MTASK_QUEUE_STORAGE_SIZE(capacity, item_size)]                                \
      __attribute__((aligned(MTASK_QUEUE_ALIGN)))

/* Orders two items: negative if `a` comes out before `b`, 0 if they are equal, else positive. `ctx`
   is the desc's compare_ctx. It runs while the queue is locked: it must be short, must not block,
   and must not use the queue. */
typedef int (*mtask_queue_compare)(const void *a, const void *b, void *ctx);

/* How to make a queue. */
typedef struct mtask_queue_desc {
    mtask_queue_kind kind;       /* (default: MTASK_FIFO) */
    size_t capacity;             /* most items, at least 1, or MTASK_UNBOUNDED; has no default */
    size_t item_size;            /* bytes of an item, at least 1; has no default. The functions of
                                    MTASK_QUEUE_TYPE fill it in. Items lie aligned for their type,
                                    up to 64 bytes; in queues without bounds as malloc's memory */
    mtask_queue_compare compare; /* of a MTASK_PRIORITY queue, which must have one; else NULL */
    void *compare_ctx;           /* handed to compare (default: NULL) */
    void *storage;               /* where the queue lies, aligned to MTASK_QUEUE_ALIGN; it is yours,
                                    and must outlive the queue (default: NULL: allocated) */
    size_t storage_size;         /* its bytes */
    int flags;                   /* MTASK_PRIVATE, or MTASK_SHARED: several processes use the queue;
                                    `storage` must lie in memory that they share (default:
                                    MTASK_PRIVATE) */
} mtask_queue_desc;

struct mtask__queue_core;

/* A handle on a queue; its fields are private. It must not be copied. Of a shared queue, each
   process has its own. */
typedef struct mtask_queue {
    struct mtask__queue_core *core; /* what all handles have in common; NULL: not initialised */
    unsigned char *items;
    uint32_t *order; /* of a priority queue: see >>queue-heap */
    uint32_t *stamps;
    size_t item_size;
    size_t capacity;                    /* slots there are now */
    size_t bytes;                       /* capacity x item_size */
    size_t span;                        /* items are counted modulo this */
    struct mtask__queue_side *get_side; /* what gets lock: `head` if it has a lock of its own */
    mtask_queue_compare compare;
    void *compare_ctx;
    void *block; /* what deinit frees; NULL: the storage is the user's */
    uint8_t kind;
    bool shared;
    bool unbounded;
    bool plain; /* a bounded FIFO of one process: what the fast paths are for */
    bool calm;  /* who waits sleeps without letting others run first: items take long */
} mtask_queue;

/* Makes a queue as `desc` says. MTASK_INVALID: a NULL argument, an unknown kind or flag, capacity
   or item_size 0, a priority queue without `compare` (or another one with it), storage that is too
   small or not aligned; a queue without bounds that is shared or in given storage; a shared one
   without storage. MTASK_OVERFLOW: that many items do not fit into the address space, or into 2^32
   for MTASK_PRIORITY. MTASK_NOMEM. MTASK_UNSUPPORTED: no shared memory on this system, or
   unbounded without stb_ds. MTASK_SYSTEM. On failure nothing is left behind. Does not block. */
MTASK_API mtask_status mtask_queue_init(mtask_queue *queue, const mtask_queue_desc *desc);

/* Makes a handle on a queue that another process (or another part of this one) made with
   MTASK_SHARED in the memory that here lies at desc->storage, storage_size bytes. compare and
   compare_ctx are this handle's own and must order as the others do (they are not used if it is no
   priority queue). kind and flags are not looked at; capacity and item_size must be those of the
   queue, or 0 for whatever they are. MTASK_NOT_FOUND: no queue has been made there yet.
   MTASK_INVALID: it does not fit the desc, was made without MTASK_SHARED or by another version of
   mtask, or compare is missing. MTASK_UNSUPPORTED: no shared memory on this system. After fork, the
   child may use the handles of its parent. Does not block. */
MTASK_API mtask_status mtask_queue_attach(mtask_queue *queue, const mtask_queue_desc *desc);

/* How many bytes of storage a queue made by `desc` needs; 0 if it cannot be made in storage. */
MTASK_API size_t mtask_queue_storage_size(const mtask_queue_desc *desc);

/* Ends a queue that nobody uses any more; items in it are dropped (see mtask_queue_discard). Of a
   shared queue only this handle ends; the queue lives as long as the storage. MTASK_INVALID if
   somebody waits on it, or if it was not initialised. Does not block. */
MTASK_API mtask_status mtask_queue_deinit(mtask_queue *queue);

/* Copies the item of item_size bytes at `item` into the queue; waits for room at most `timeout`
   nanoseconds. MTASK_OK. MTASK_FULL: the time was up. MTASK_CLOSED: the queue was closed.
   MTASK_NOMEM (unbounded). MTASK_INVALID (negative timeout, NULL). MTASK_CANCELED (a cancelled
   coroutine), MTASK_DEADLOCK (called on a scheduler's own stack, and it had to wait). MTASK_BROKEN:
   a shared queue whose lock was lost. MTASK_SYSTEM. Unless MTASK_OK, nothing was put. */
MTASK_API mtask_status mtask_queue_put(mtask_queue *queue, const void *item, int64_t timeout);

/* Takes the next item out into the item_size bytes at `item`; waits for one at most `timeout`
   nanoseconds. MTASK_OK. MTASK_EMPTY: the time was up. MTASK_CLOSED: the queue was closed, and
   nothing is left in it. Otherwise as mtask_queue_put; unless MTASK_OK, nothing was taken. */
MTASK_API mtask_status mtask_queue_get(mtask_queue *queue, void *item, int64_t timeout);

/* Puts the `count` items at `items`, in their order, as many at a time as there is room for, waking
   consumers once for each such batch; waits for room at most `timeout` nanoseconds in all. *moved
   (may be NULL) receives how many were put, whatever is returned: all for MTASK_OK, also if `count`
   is 0; otherwise the first *moved. In between, others may put theirs. Returns as mtask_queue_put.
   */
MTASK_API mtask_status mtask_queue_put_many(mtask_queue *queue, const void *items, size_t count,
                                            size_t *moved, int64_t timeout);

/* Takes up to `count` items out, in order, into `items`: waits like mtask_queue_get until there is
   one, then takes what there was when it looked. *moved (may be NULL) receives how many: at least 1
   for MTASK_OK (unless `count` is 0, which returns at once), otherwise 0. */
MTASK_API mtask_status mtask_queue_get_many(mtask_queue *queue, void *items, size_t count,
                                            size_t *moved, int64_t timeout);

/* Copies the item that a get would take now to `item`, and leaves it in. MTASK_OK, MTASK_EMPTY,
   MTASK_CLOSED, MTASK_INVALID, MTASK_BROKEN, MTASK_SYSTEM. Never waits for items. */
MTASK_API mtask_status mtask_queue_peek(mtask_queue *queue, void *item);

/* How many items are in it; whether there are none, or as many as fit; as of some moment during the
   call. Do not block. */
MTASK_API size_t mtask_queue_size(const mtask_queue *queue);
MTASK_API bool mtask_queue_is_empty(const mtask_queue *queue);
MTASK_API bool mtask_queue_is_full(const mtask_queue *queue);

/* Whether mtask_queue_close has been called. Does not block. */
MTASK_API bool mtask_queue_is_closed(const mtask_queue *queue);

/* Says that the work on one item that was taken out is done. MTASK_OK. MTASK_OVERFLOW: called more
   often than items were put; nothing changed. MTASK_INVALID. Does not block. */
MTASK_API mtask_status mtask_queue_task_done(mtask_queue *queue);

/* How many of the items that were put have not been followed by a task_done (Python's
   unfinished_tasks). Does not block. */
MTASK_API size_t mtask_queue_unfinished(const mtask_queue *queue);

/* Waits until task_done has been called for every item that was put, at most `timeout` nanoseconds.
   MTASK_OK, MTASK_TIMEOUT, MTASK_INVALID, MTASK_CANCELED, MTASK_DEADLOCK, MTASK_SYSTEM. */
MTASK_API mtask_status mtask_queue_join(mtask_queue *queue, int64_t timeout);

/* Closes the queue: from now on puts answer MTASK_CLOSED, gets take what is left and then answer
   MTASK_CLOSED too; everyone who waits wakes up. MTASK_OK, also if it was closed already.
   MTASK_INVALID, MTASK_BROKEN, MTASK_SYSTEM. Does not wait for consumers: that is join. */
MTASK_API mtask_status mtask_queue_close(mtask_queue *queue);

/* Throws away what is in the queue when it looks: calls fn(item, ctx) for each, in order (fn may
   be NULL; it may free what the item points to; it must not use the queue, which is locked), and
   counts each as done, so that join need not wait for it. *discarded (may be NULL) receives how
   many. The queue is empty first, and its items count as done a moment later. With
   mtask_queue_close before it, this is Python's shutdown(immediate=True). MTASK_OK, MTASK_INVALID,
   MTASK_BROKEN, MTASK_SYSTEM. Does not wait for items. */
MTASK_API mtask_status mtask_queue_discard(mtask_queue *queue, void (*fn)(void *item, void *ctx),
                                           void *ctx, size_t *discarded);

/* A descriptor for poll, epoll, kqueue, libuv or glib to watch for reading: while it is not
   readable the queue is empty and open; when it becomes readable, take items with MTASK_NOWAIT
   until MTASK_EMPTY. It may be readable though others have taken the items, and stays readable
   after close. Do not read, write or close it: it is the queue's and ends with it. The first call
   makes it; until then it costs nothing, from then on each put, and each get that finds nothing,
   looks at it. *fd receives it. MTASK_OK, MTASK_INVALID, MTASK_UNSUPPORTED (a shared queue; a
   system without), MTASK_SYSTEM (no descriptor left: errno). Does not block. */
MTASK_API mtask_status mtask_queue_pollfd(mtask_queue *queue, int *fd);

/* ---- >>select: wait for the first of several puts and gets ---- */

/* What a case of a select does. */
typedef enum mtask_queue_op { MTASK_GET, MTASK_PUT } mtask_queue_op;

/* A case: get an item from `queue` into `item`, or put the one at `item`. A case whose queue is
   NULL never happens. The fields below the line are private and need no initial value. */
typedef struct mtask_queue_case {
    mtask_queue *queue;
    mtask_queue_op op;
    void *item; /* item_size bytes; a put only reads them */
    /* ---- */
    mtask__listener listener;
    bool fired;
} mtask_queue_case;

/* Waits until one of `n` cases can happen, and does it: exactly one, chosen at random among those
   that can. *fired (may be NULL) receives its index; what is returned is what the put or get
   returned: MTASK_OK or, of a closed queue, MTASK_CLOSED (or MTASK_NOMEM, MTASK_BROKEN). If none
   could for `timeout` nanoseconds: MTASK_TIMEOUT, and *fired is n. Also MTASK_INVALID (negative
   timeout, NULL, or no case and MTASK_FOREVER), MTASK_CANCELED, MTASK_DEADLOCK, MTASK_SYSTEM; then
   nothing happened. With a shared queue among the cases it looks again and again, at least every
   10 ms, since other processes cannot wake it. No queue of the cases may be freed before it
   returns. */
MTASK_API mtask_status mtask_queue_select(mtask_queue_case *cases, size_t n, size_t *fired,
                                          int64_t timeout);

/* ---- >>queue-layout: what lies in the storage; private ---- */

/* A shared queue uses none of the pointers in here: processes see it at different addresses. Each
   part that is written by itself has a cache line of its own.

   A side's word, of the size of a pointer:
     bit 0   LOCKED  somebody is at work on this side (never set in shared queues: `robust`)
     bit 1   CLOSED  of the tail: no more puts
     others  how many items have been put (tail) or taken (head), modulo `span`

   A gate's word:
     bit 0   WAITERS    somebody may be asleep: the one who opens the gate clears it and wakes
     bit 1   LISTENERS  a select is linked
     bit 2   WATCHED    there is a descriptor to be kept readable
     others  changes whenever sleepers are woken */
typedef struct mtask__queue_side {
    size_t word;
    size_t offset; /* of the next slot, in bytes; guarded by LOCKED */
    size_t seen;   /* the other side's count when this side last had to look; stored under LOCKED */
    mtask_shared_mutex robust; /* the lock of a shared queue */
} __attribute__((aligned(64))) mtask__queue_side;

typedef struct mtask__queue_gate {
    mtask_word word;
    mtask_word sleepers;        /* how many are asleep, or about to be */
    mtask_word spin;            /* how many pauses were enough lately */
    mtask__listener *listeners; /* guarded by listen_lock */
} __attribute__((aligned(64))) mtask__queue_gate;

typedef struct mtask__queue_core {
    mtask_word magic; /* set last: the queue is ready */
    mtask_word stamp; /* of the next item of a priority queue; guarded by the tail */
    uint8_t kind;
    bool shared;
    bool unbounded;
    mtask_word closing; /* of a private queue: close has begun */
    size_t capacity;
    size_t item_size;
    size_t span;
    mtask__queue_side tail;
    mtask__queue_side head;
    mtask__queue_gate filled; /* those who wait for items */
    mtask__queue_gate freed;  /* those who wait for room */
    union {
        size_t word; /* bit 0: joiners may be asleep; others: how many items are done */
        mtask_word half[sizeof(size_t) / sizeof(mtask_word)];
    } done;
    mtask_mutex listen_lock; /* guards listeners and what follows */
    mtask_word signaled;     /* the descriptor is readable */
    int notifier[2];         /* to read and to write; valid if `filled` is WATCHED */
    mtask_word joiners;      /* how many are in join */
} __attribute__((aligned(64))) mtask__queue_core;

# define MTASK__QUEUE_CORE_SIZE sizeof(mtask__queue_core)

/* ---- >>queue-type: the same without casts ---- */

/* MTASK_QUEUE_TYPE(jobs, struct job); makes the type `jobs`, a queue of struct job, and these
   inline functions, each as the mtask_queue function of that name:

     mtask_status jobs_init(jobs *queue, size_t capacity);     FIFO
     mtask_status jobs_init_ex(jobs *queue, const mtask_queue_desc *desc);    item_size is filled in
     mtask_status jobs_attach(jobs *queue, const mtask_queue_desc *desc);     as is here
     mtask_status jobs_deinit(jobs *queue);
     mtask_status jobs_put(jobs *queue, struct job item, int64_t timeout);
     mtask_status jobs_get(jobs *queue, struct job *item, int64_t timeout);
     mtask_status jobs_put_many(jobs *queue, const struct job *items, size_t count, size_t *moved,
                                int64_t timeout);
     mtask_status jobs_get_many(jobs *queue, struct job *items, size_t count, size_t *moved,
                                int64_t timeout);
     mtask_status jobs_peek(jobs *queue, struct job *item);
     mtask_status jobs_task_done(jobs *queue);
     mtask_status jobs_join(jobs *queue, int64_t timeout);
     mtask_status jobs_close(jobs *queue);
     mtask_status jobs_discard(jobs *queue, void (*fn)(struct job *item, void *ctx), void *ctx,
                               size_t *discarded);
     mtask_status jobs_pollfd(jobs *queue, int *fd);
     size_t jobs_size(const jobs *queue);
     size_t jobs_unfinished(const jobs *queue);
     bool jobs_is_empty(const jobs *queue), jobs_is_full(const jobs *queue);
     bool jobs_is_closed(const jobs *queue);
     mtask_queue_case jobs_case_get(jobs *queue, struct job *item);            for a select
     mtask_queue_case jobs_case_put(jobs *queue, const struct job *item);

   The queue itself, for the functions above, is the member `queue`; jobs_item is another name of
   struct job, which may be declared later if T is a pointer to it. */
# define MTASK_QUEUE_TYPE(name, T)                                                                 \
  typedef T name##_item;                                                                           \
  typedef struct name {                                                                            \
   mtask_queue queue;                                                                              \
  } name;                                                                                          \
  MTASK__INLINE mtask_status name##_init_ex(name *queue, const mtask_queue_desc *desc) {           \
   mtask_queue_desc typed;                                                                         \
   if (desc == NULL)                                                                               \
    return MTASK_INVALID;                                                                          \
   typed = *desc;                                                                                  \
   typed.item_size = sizeof(name##_item);                                                          \
   return mtask_queue_init(&queue->queue, &typed);                                                 \
  }                                                                                                \
  MTASK__INLINE mtask_status name##_init(name *queue, size_t capacity) {                           \
   mtask_queue_desc desc;                                                                          \
   memset(&desc, 0, sizeof desc);                                                                  \
   desc.capacity = capacity;                                                                       \
   return name##_init_ex(queue, &desc);                                                            \
  }                                                                                                \
  MTASK__INLINE mtask_status name##_attach(name *queue, const mtask_queue_desc *desc) {            \
   mtask_queue_desc typed;                                                                         \
   if (desc == NULL)                                                                               \
    return MTASK_INVALID;                                                                          \
   typed = *desc;                                                                                  \
   typed.item_size = sizeof(name##_item);                                                          \
   return mtask_queue_attach(&queue->queue, &typed);                                               \
  }                                                                                                \
  MTASK__INLINE mtask_status name##_deinit(name *queue) {                                          \
   return mtask_queue_deinit(&queue->queue);                                                       \
  }                                                                                                \
  MTASK__INLINE mtask_status name##_put(name *queue, name##_item item, int64_t timeout) {          \
   return mtask_queue_put(&queue->queue, &item, timeout);                                          \
  }                                                                                                \
  MTASK__INLINE mtask_status name##_get(name *queue, name##_item *item, int64_t timeout) {         \
   return mtask_queue_get(&queue->queue, item, timeout);                                           \
  }                                                                                                \
  MTASK__INLINE mtask_status name##_put_many(name *queue, name##_item const *items, size_t count,  \
                                             size_t *moved, int64_t timeout) {                     \
   return mtask_queue_put_many(&queue->queue, items, count, moved, timeout);                       \
  }                                                                                                \
  MTASK__INLINE mtask_status name##_get_many(name *queue, name##_item *items, size_t count,        \
                                             size_t *moved, int64_t timeout) {                     \
   return mtask_queue_get_many(&queue->queue, items, count, moved, timeout);                       \
  }                                                                                                \
  MTASK__INLINE mtask_status name##_peek(name *queue, name##_item *item) {                         \
   return mtask_queue_peek(&queue->queue, item);                                                   \
  }                                                                                                \
  MTASK__INLINE mtask_status name##_task_done(name *queue) {                                       \
   return mtask_queue_task_done(&queue->queue);                                                    \
  }                                                                                                \
  MTASK__INLINE mtask_status name##_join(name *queue, int64_t timeout) {                           \
   return mtask_queue_join(&queue->queue, timeout);                                                \
  }                                                                                                \
  MTASK__INLINE mtask_status name##_close(name *queue) {                                           \
   return mtask_queue_close(&queue->queue);                                                        \
  }                                                                                                \
  typedef struct name##__discarder {                                                               \
   void (*fn)(name##_item * item, void *ctx);                                                      \
   void *ctx;                                                                                      \
  } name##__discarder;                                                                             \
  MTASK__INLINE void name##__discard_one(void *item, void *discarder) {                            \
   name##__discarder *typed = (name##__discarder *)discarder;                                      \
   typed->fn((name##_item *)item, typed->ctx);                                                     \
  }                                                                                                \
  MTASK__INLINE mtask_status name##_discard(                                                       \
      name *queue, void (*fn)(name##_item * item, void *ctx), void *ctx, size_t *discarded) {      \
   name##__discarder typed;                                                                        \
   typed.fn = fn;                                                                                  \
   typed.ctx = ctx;                                                                                \
   return mtask_queue_discard(&queue->queue, fn != NULL ? name##__discard_one : NULL, &typed,      \
                              discarded);                                                          \
  }                                                                                                \
  MTASK__INLINE mtask_status name##_pollfd(name *queue, int *fd) {                                 \
   return mtask_queue_pollfd(&queue->queue, fd);                                                   \
  }                                                                                                \
  MTASK__INLINE size_t name##_size(const name *queue) {                                            \
   return mtask_queue_size(&queue->queue);                                                         \
  }                                                                                                \
  MTASK__INLINE size_t name##_unfinished(const name *queue) {                                      \
   return mtask_queue_unfinished(&queue->queue);                                                   \
  }                                                                                                \
  MTASK__INLINE bool name##_is_empty(const name *queue) {                                          \
   return mtask_queue_is_empty(&queue->queue);                                                     \
  }                                                                                                \
  MTASK__INLINE bool name##_is_full(const name *queue) {                                           \
   return mtask_queue_is_full(&queue->queue);                                                      \
  }                                                                                                \
  MTASK__INLINE bool name##_is_closed(const name *queue) {                                         \
   return mtask_queue_is_closed(&queue->queue);                                                    \
  }                                                                                                \
  MTASK__INLINE mtask_queue_case name##_case_get(name *queue, name##_item *item) {                 \
   mtask_queue_case made;                                                                          \
   memset(&made, 0, sizeof made);                                                                  \
   made.queue = &queue->queue;                                                                     \
   made.op = MTASK_GET;                                                                            \
   made.item = item;                                                                               \
   return made;                                                                                    \
  }                                                                                                \
  MTASK__INLINE mtask_queue_case name##_case_put(name *queue, name##_item const *item) {           \
   mtask_queue_case made;                                                                          \
   memset(&made, 0, sizeof made);                                                                  \
   made.queue = &queue->queue;                                                                     \
   made.op = MTASK_PUT;                                                                            \
   made.item = (void *)(uintptr_t)item;                                                            \
   return made;                                                                                    \
  }                                                                                                \
  struct name /* so that a semicolon may follow */

# ifdef __cplusplus
} /* extern "C" */
# endif

#endif /* MTASK_QUEUE_H */

/* ================================ implementation ================================ */

#if (defined(MTASK_IMPLEMENTATION) || defined(MTASK_QUEUE_IMPLEMENTATION)) &&                      \
    !defined(MTASK_QUEUE_IMPLEMENTED)
# define MTASK_QUEUE_IMPLEMENTED

# include <limits.h>
# include <stdlib.h>
# include <string.h>

/* Of stb_ds only the head of its arrays is used, never its functions: these do not report that
   memory ran out. So nothing of it is implemented here, and a program may have its own. */
# if !defined(MTASK_NO_STB_DS) && defined(__has_include)
#  pragma GCC diagnostic push
#  pragma GCC diagnostic ignored "-Wconversion"
#  pragma GCC diagnostic ignored "-Wpedantic"
#  pragma GCC diagnostic ignored "-Wshadow"
#  pragma GCC diagnostic ignored "-Wundef"
#  pragma push_macro("STB_DS_IMPLEMENTATION")
#  undef STB_DS_IMPLEMENTATION
#  if __has_include("stb_ds.h")
#   include "stb_ds.h"
#  elif __has_include(<stb/stb_ds.h>)
#   include <stb/stb_ds.h>
#  elif __has_include(<stb_ds.h>)
#   include <stb_ds.h>
#  endif
#  pragma pop_macro("STB_DS_IMPLEMENTATION")
#  pragma GCC diagnostic pop
# endif

# ifndef MTASK_QUEUE_SPIN
#  define MTASK_QUEUE_SPIN 128
# endif

# ifdef __cplusplus
extern "C" {
# endif

/* What a descriptor that tells of items needs from the system; with MTASK_PLATFORM_CUSTOM you write
   these three. Opens a pair to read from and to write to, that never blocks: MTASK_UNSUPPORTED,
   MTASK_SYSTEM. Makes it readable. Makes it not readable again. Closes it. */
# ifdef MTASK_PLATFORM_CUSTOM
#  define MTASK__NOTIFIER_API extern
# else
#  define MTASK__NOTIFIER_API static
# endif
MTASK__NOTIFIER_API mtask_status mtask__os_notifier_open(int pair[2]);
MTASK__NOTIFIER_API void mtask__os_notifier_set(const int pair[2]);
MTASK__NOTIFIER_API void mtask__os_notifier_clear(const int pair[2]);
MTASK__NOTIFIER_API void mtask__os_notifier_close(const int pair[2]);

/* ---- >>queue-side: two ends that count, each with a lock ---- */

/* How it works. A put locks the tail, copies its items in, and publishes them by the one store that
   raises the count and unlocks. A get does the same at the head. So each costs one atomic
   read-modify-write, the compare-and-swap that locks. A bounded FIFO needs no more: an end looks at
   the other's count only when what it saw of it last is used up (this is the cached index of
   single-producer rings, after Lamport 1983 and Giacomoni's FastForward, 2008, here guarded by the
   lock). Where put and get work on the same items (LIFO, priority, unbounded), both lock the tail.

   A shared queue locks by robust mutexes, one for each end, and is whole after any instruction: an
   item is there or not there by the one store of the count. */
enum {
    MTASK__QUEUE_LOCKED = 1,
    MTASK__QUEUE_CLOSED = 2,
    MTASK__QUEUE_BITS = 2, /* how many bits the two take */
    MTASK__GATE_WAITERS = 1,
    MTASK__GATE_LISTENERS = 2,
    MTASK__GATE_WATCHED = 4,
    MTASK__GATE_NEWS = 7, /* any of them: somebody wants to hear of it */
    MTASK__GATE_EPOCH = 8
};

# define MTASK__QUEUE_NOINLINE __attribute__((noinline))
# define MTASK__QUEUE_INLINE   static inline __attribute__((always_inline))

/* Whether put and get lock the same end. */
MTASK__QUEUE_INLINE bool mtask__queue_is_one(const mtask_queue *queue) {
    return queue->get_side == &queue->core->tail;
}

MTASK__QUEUE_INLINE size_t mtask__queue_count(size_t word) {
    return word >> MTASK__QUEUE_BITS;
}

/* How far it is from one count to a later one. */
MTASK__QUEUE_INLINE size_t mtask__queue_distance(const mtask_queue *queue, size_t from, size_t to) {
    return to >= from ? to - from : to + (queue->span - from);
}

/* A side's word after `n` more, unlocked. */
MTASK__QUEUE_INLINE size_t mtask__queue_advance(const mtask_queue *queue, size_t word, size_t n) {
    size_t count = mtask__queue_count(word) + n;
    if (MTASK__UNLIKELY(count >= queue->span))
        count -= queue->span;
    return count << MTASK__QUEUE_BITS | (word & MTASK__QUEUE_CLOSED);
}

/* Notes the count of the other side, from its word, with the lock held. */
MTASK__QUEUE_INLINE size_t mtask__queue_see(mtask__queue_side *side, size_t word) {
    size_t count = mtask__queue_count(word);
    mtask__store(&side->seen, count, RELAXED); /* the lock orders it; others take it for a hint */
    return count;
}

/* Locks if it is free. *word receives what the side held. Sequentially consistent: see
   >>queue-gate; and it acquires what the last holder's store in mtask__side_unlock released. */
MTASK__QUEUE_INLINE bool mtask__side_try(mtask__queue_side *side, size_t *word) {
    *word = mtask__load(&side->word, RELAXED); /* a guess that the CAS confirms */
    return (*word & MTASK__QUEUE_LOCKED) == 0 &&
           mtask__cas(&side->word, word, *word | MTASK__QUEUE_LOCKED, SEQ_CST);
}

static bool mtask__is_over(int64_t deadline) {
    return deadline != MTASK_FOREVER && mtask_now() >= deadline;
}

static mtask_status mtask__side_lock_robust(mtask_queue *queue, mtask__queue_side *side,
                                            int64_t deadline, size_t *word);

/* Locks; waits for the holder, who is in the middle of a copy, and may have been preempted there:
   at most until `deadline` (0: as long as it takes). MTASK_TIMEOUT. It is patient: in the meantime
   the other thread gets many operations done, with all it needs in its own cache. A heap has the
   most to move from one CPU to the other. */
static mtask_status mtask__side_lock(mtask_queue *queue, mtask__queue_side *side, int64_t deadline,
                                     size_t *word) {
    unsigned pauses = queue->kind == MTASK_PRIORITY ? 128 : 16;
    unsigned most = 8 * pauses;
    unsigned turn = 6; /* the pauses of mtask__stall are spared */
    if (queue->shared)
        return mtask__side_lock_robust(queue, side, deadline, word);
    while (!mtask__side_try(side, word)) {
        if (pauses <= most && mtask__spin(pauses))
            pauses *= 2;
        else
            mtask__stall(&turn);
        if (deadline != 0 && mtask__is_over(deadline))
            return MTASK_TIMEOUT;
    }
    return MTASK_OK;
}

/* The end that an operation locks. */
MTASK__QUEUE_INLINE mtask__queue_side *mtask__queue_side_of(mtask_queue *queue, bool plain,
                                                            mtask_queue_op op) {
    if (op == MTASK_PUT)
        return &queue->core->tail;
    return plain ? &queue->core->head : queue->get_side;
}

/* Publishes `word` and unlocks. */
MTASK__QUEUE_INLINE void mtask__side_unlock(mtask_queue *queue, bool plain, mtask__queue_side *side,
                                            size_t word) {
    if (!plain && queue->shared) {
        mtask__store(&side->word, word, SEQ_CST);
        (void)mtask_shared_mutex_unlock(&side->robust);
    } else {
        mtask__store(&side->word, word, RELEASE); /* pairs with the acquires of the counts */
    }
}

/* ---- >>queue-gate: those who wait for items, and those who wait for room ---- */

/* Why no wake-up is lost. A getter that finds nothing sets WAITERS in the gate `filled`, then looks
   at the tail once more, and sleeps only if that is neither locked nor ahead of the head, and only
   while the gate's word stays the same. A put first locks the tail, then looks at the gate. All
   four are sequentially consistent. So either the put sees WAITERS: then it changes the gate's word
   and, after it has published, wakes; or the getter's last look sees the tail locked (it tries
   again, with pauses) or the item. A put thus needs no fence of its own. Likewise for room.

   The flag does not tell how many sleep, and the put that clears it wakes one for each item. Others
   may be asleep still: so whoever has slept sets it again when it leaves, and then wakes one more
   if there is more to be had (mtask__gate_pass). `sleepers` tells whether there is anyone.

   A private queue is not touched after the store that publishes: whoever gets the last item may
   free the queue at once. So the gate is opened before that store, and only the address is woken
   after. One who wakes too early finds the tail locked, and waits for that.

   A shared queue has no LOCKED to see, so there the gate is opened after the store; its memory does
   not vanish. A process may be killed between the two; sleepers of shared queues look again every
   100 ms. */

MTASK__QUEUE_INLINE mtask__queue_gate *mtask__queue_gate_of(const mtask_queue *queue,
                                                            mtask_queue_op op) {
    return op == MTASK_GET ? &queue->core->filled : &queue->core->freed;
}

static void mtask__gate_tell(mtask_queue *queue, mtask__queue_gate *gate, mtask_word word,
                             size_t n);

static MTASK__QUEUE_NOINLINE int mtask__gate_open_slow(mtask_queue *queue, mtask__queue_gate *gate,
                                                       mtask_word word, size_t n) {
    if ((word & (MTASK__GATE_LISTENERS | MTASK__GATE_WATCHED)) != 0)
        mtask__gate_tell(queue, gate, word, n);
    while ((word & MTASK__GATE_WAITERS) != 0)
        if (mtask__cas(&gate->word, &word, word + MTASK__GATE_EPOCH - MTASK__GATE_WAITERS, SEQ_CST))
            return n < INT_MAX ? (int)n : INT_MAX;
    return 0;
}

/* There is something for `n` of those who wait here. Returns how many to wake by the gate's address
   once that can be seen. */
MTASK__QUEUE_INLINE int mtask__gate_open(mtask_queue *queue, mtask__queue_gate *gate, size_t n) {
    mtask_word word = mtask__load(&gate->word, SEQ_CST);
    return MTASK__LIKELY((word & MTASK__GATE_NEWS) == 0)
               ? 0
               : mtask__gate_open_slow(queue, gate, word, n);
}

/* How many items there are to get, or places to put. The count that only grows in one's disfavour
   is read first, so that the answer 0 is true. */
static size_t mtask__queue_amount(const mtask_queue *queue, mtask_queue_op op) {
    const mtask__queue_core *core = queue->core;
    size_t head;
    size_t tail;
    if (op == MTASK_GET) {
        head = mtask__queue_count(mtask__load(&core->head.word, SEQ_CST));
        tail = mtask__queue_count(mtask__load(&core->tail.word, SEQ_CST));
        return mtask__queue_distance(queue, head, tail);
    }
    if (queue->unbounded)
        return SIZE_MAX;
    tail = mtask__queue_count(mtask__load(&core->tail.word, SEQ_CST));
    head = mtask__queue_count(mtask__load(&core->head.word, SEQ_CST));
    return queue->capacity - mtask__queue_distance(queue, head, tail);
}

/* Whether the other end is at work: what it will bring cannot be seen yet. */
static bool mtask__queue_is_busy(const mtask_queue *queue, mtask_queue_op op) {
    const mtask__queue_side *other = op == MTASK_GET ? &queue->core->tail : queue->get_side;
    return (mtask__load(&other->word, SEQ_CST) & MTASK__QUEUE_LOCKED) != 0;
}

/* Whether the try that follows is sure to succeed, unless somebody else is faster. */
static bool mtask__queue_is_sure(const mtask_queue *queue, mtask_queue_op op) {
    return mtask__queue_amount(queue, op) != 0 ||
           (mtask__load(&queue->core->tail.word, SEQ_CST) & MTASK__QUEUE_CLOSED) != 0;
}

/* Whether one must not sleep. When a private queue is being closed, `closing` can be seen before
   the gates are opened for the last time; of a shared one, CLOSED. */
static bool mtask__queue_is_ready(const mtask_queue *queue, mtask_queue_op op) {
    return mtask__queue_is_busy(queue, op) || mtask__queue_is_sure(queue, op) ||
           mtask__load(&queue->core->closing, SEQ_CST) != 0;
}

static mtask_status mtask__gate_sleep(mtask_queue *queue, mtask_queue_op op, int64_t deadline) {
    mtask__queue_gate *gate = mtask__queue_gate_of(queue, op);
    mtask_status status = MTASK_OK;
    mtask_word word;
    mtask__add(&gate->sleepers, 1, SEQ_CST);
    word = mtask__load(&gate->word, SEQ_CST);
    if ((word & MTASK__GATE_WAITERS) != 0 ||
        mtask__cas(&gate->word, &word, word | MTASK__GATE_WAITERS, SEQ_CST)) {
        if (!mtask__queue_is_ready(queue, op))
            status = mtask__wait(&gate->word, word | MTASK__GATE_WAITERS, deadline,
                                 queue->shared ? MTASK_SHARED : 0);
    }
    mtask__sub(&gate->sleepers, 1, SEQ_CST);
    return status;
}

/* For one who leaves a gate at which it slept: others may sleep there. `taken` is what it has moved
   but not counted yet, with the lock of its end held (`locked`). Returns how many to wake. */
static MTASK__QUEUE_NOINLINE int mtask__gate_pass(mtask_queue *queue, mtask_queue_op op,
                                                  size_t taken, bool locked) {
    mtask__queue_gate *gate = mtask__queue_gate_of(queue, op);
    bool blind = !(locked && mtask__queue_is_one(queue)); /* the other end may be at work */
    if (mtask__load(&gate->sleepers, SEQ_CST) == 0)
        return 0;
    mtask__or(&gate->word, MTASK__GATE_WAITERS, SEQ_CST);
    if (mtask__queue_amount(queue, op) <= taken && !(blind && mtask__queue_is_busy(queue, op)))
        return 0;
    return mtask__gate_open(queue, gate, 1);
}

static void mtask__gate_wake(const mtask_queue *queue, mtask__queue_gate *gate, int n) {
    if (n > 0)
        mtask__wake(&gate->word, n, MTASK__AFTER_RMW | (queue->shared ? MTASK_SHARED : 0));
}

/* ---- >>queue-ring: how items lie in a FIFO and in a LIFO ---- */

/* Sizes of a word are copied without a call. */
MTASK__QUEUE_INLINE void mtask__queue_copy(void *to, const void *from, size_t size) {
    if (size == sizeof(uint64_t))
        memcpy(to, from, sizeof(uint64_t));
    else
        memcpy(to, from, size);
}

/* Copies `n` items to the place for the next of a FIFO, and moves that on. */
MTASK__QUEUE_INLINE void mtask__ring_put(mtask_queue *queue, const unsigned char *items, size_t n) {
    mtask__queue_side *side = &queue->core->tail;
    size_t size = n * queue->item_size;
    size_t straight = queue->bytes - side->offset;
    unsigned char *to = queue->items + side->offset;
    if (size < straight) {
        side->offset += size;
        mtask__queue_copy(to, items, size);
        return;
    }
    side->offset = size - straight;
    mtask__queue_copy(to, items, straight);
    if (side->offset != 0)
        memcpy(queue->items, items + straight, side->offset);
}

/* The place of the next item of a side of a FIFO, which moves on. One item never wraps around. */
MTASK__QUEUE_INLINE void *mtask__ring_step(mtask_queue *queue, mtask__queue_side *side) {
    unsigned char *place = queue->items + side->offset;
    size_t next = side->offset + queue->item_size;
    side->offset = next == queue->bytes ? 0 : next;
    return place;
}

/* Copies the next `n` items of a FIFO out, and moves on. */
MTASK__QUEUE_INLINE void mtask__ring_get(mtask_queue *queue, unsigned char *items, size_t n) {
    mtask__queue_side *side = &queue->core->head;
    size_t size = n * queue->item_size;
    size_t straight = queue->bytes - side->offset;
    const unsigned char *from = queue->items + side->offset;
    if (size < straight) {
        side->offset += size;
        mtask__queue_copy(items, from, size);
        return;
    }
    side->offset = size - straight;
    mtask__queue_copy(items, from, straight);
    if (side->offset != 0)
        memcpy(items + straight, queue->items, side->offset);
}

/* ---- >>queue-heap: how items lie in a priority queue ---- */

/* Items stay in the slot that they were put into. `stamps` holds for each slot 0 if it is free, or
   else the number under which the item was put, which breaks ties; storing it is what commits a put
   or a get. `order` is a permutation of the slots: first a heap with four children to a node (it is
   half as deep as one with two, and the children of a node share a cache line), then the free ones.
   It can be made again from the stamps alone. All of it is guarded by the tail's lock. */

MTASK__QUEUE_INLINE void *mtask__queue_slot(const mtask_queue *queue, size_t slot) {
    return queue->items + slot * queue->item_size;
}

static bool mtask__queue_heap_before(const mtask_queue *queue, uint32_t a, uint32_t b) {
    int compared = queue->compare(mtask__queue_slot(queue, a), mtask__queue_slot(queue, b),
                                  queue->compare_ctx);
    return compared != 0 ? compared < 0 : queue->stamps[a] < queue->stamps[b];
}

static void mtask__queue_heap_up(mtask_queue *queue, size_t at) {
    uint32_t slot = queue->order[at];
    while (at > 0) {
        size_t parent = (at - 1) / 4;
        if (!mtask__queue_heap_before(queue, slot, queue->order[parent]))
            break;
        queue->order[at] = queue->order[parent];
        at = parent;
    }
    queue->order[at] = slot;
}

static void mtask__queue_heap_down(mtask_queue *queue, size_t at, size_t size) {
    uint32_t slot = queue->order[at];
    size_t first;
    while ((first = 4 * at + 1) < size) {
        size_t end = first + 4 < size ? first + 4 : size;
        size_t least = first;
        for (size_t child = first + 1; child < end; child++)
            if (mtask__queue_heap_before(queue, queue->order[child], queue->order[least]))
                least = child;
        if (!mtask__queue_heap_before(queue, queue->order[least], slot))
            break;
        queue->order[at] = queue->order[least];
        at = least;
    }
    queue->order[at] = slot;
}

static void mtask__queue_heap_build(mtask_queue *queue, size_t size) {
    for (size_t at = size / 4 + 1; at-- > 0;)
        if (at < size)
            mtask__queue_heap_down(queue, at, size);
}

/* Sorts the heap by stamp (Shell 1959; it needs neither memory nor recursion), for the next. */
static void mtask__queue_heap_sort(mtask_queue *queue, size_t size) {
    for (size_t gap = size / 2; gap > 0; gap = gap == 2 ? 1 : gap * 5 / 11)
        for (size_t i = gap; i < size; i++) {
            uint32_t slot = queue->order[i];
            size_t at = i;
            for (; at >= gap && queue->stamps[queue->order[at - gap]] > queue->stamps[slot];
                 at -= gap)
                queue->order[at] = queue->order[at - gap];
            queue->order[at] = slot;
        }
}

/* Once in 2^32 puts: numbers the items anew from 1 on. In order of the old numbers, none of which
   is less than its new one: so the order stays right at each step, should the process be killed. */
static void mtask__queue_heap_renumber(mtask_queue *queue, size_t size) {
    mtask__queue_heap_sort(queue, size);
    for (size_t i = 0; i < size; i++)
        queue->stamps[queue->order[i]] = (uint32_t)i + 1;
    queue->core->stamp = (uint32_t)size + 1;
    mtask__queue_heap_build(queue, size);
}

static void mtask__queue_heap_put(mtask_queue *queue, size_t size, const unsigned char *item) {
    uint32_t slot = queue->order[size];
    mtask__queue_copy(mtask__queue_slot(queue, slot), item, queue->item_size);
    mtask__store(&queue->stamps[slot], queue->core->stamp, RELEASE); /* after the copy, for mend */
    mtask__queue_heap_up(queue, size);
    if (++queue->core->stamp == UINT32_MAX)
        mtask__queue_heap_renumber(queue, size + 1);
}

/* Takes the first out of the heap of `size`, once it has been copied. */
static void mtask__queue_heap_drop(mtask_queue *queue, size_t size) {
    uint32_t slot = queue->order[0];
    mtask__store(&queue->stamps[slot], 0, RELAXED); /* commits; the lock orders it */
    queue->order[0] = queue->order[size - 1];
    queue->order[size - 1] = slot;
    if (size > 1)
        mtask__queue_heap_down(queue, 0, size - 1);
}

/* ---- >>queue-robust: the ends of a shared queue ---- */

/* Counts `n` more, which somebody was killed before counting. */
static void mtask__queue_recount(mtask_queue *queue, mtask__queue_side *side, size_t n) {
    size_t word = mtask__load(&side->word, RELAXED); /* the lock orders it */
    mtask__store(&side->word, mtask__queue_advance(queue, word, n), SEQ_CST);
}

/* Makes the heap anew from the stamps, and the counts from their number: somebody was killed. */
static void mtask__queue_mend_heap(mtask_queue *queue) {
    mtask__queue_core *core = queue->core;
    size_t size = 0;
    size_t counted = mtask__queue_amount(queue, MTASK_GET);
    size_t free_at = queue->capacity;
    for (size_t slot = queue->capacity; slot-- > 0;)
        if (queue->stamps[slot] == 0)
            queue->order[--free_at] = (uint32_t)slot;
    for (size_t slot = 0; slot < queue->capacity; slot++) {
        if (queue->stamps[slot] == 0)
            continue;
        queue->order[size++] = (uint32_t)slot;
        if (queue->stamps[slot] >= core->stamp)
            core->stamp = queue->stamps[slot] + 1;
    }
    mtask__queue_heap_build(queue, size);
    if (core->stamp == UINT32_MAX)
        mtask__queue_heap_renumber(queue, size);
    if (size > counted)
        mtask__queue_recount(queue, &core->tail, size - counted);
    if (size < counted)
        mtask__queue_recount(queue, &core->head, counted - size);
}

/* After the last holder of this end was killed. The count says which items are there; of a FIFO it
   also says where, since the span is a multiple of the capacity. */
static void mtask__queue_mend(mtask_queue *queue, mtask__queue_side *side) {
    mtask__queue_core *core = queue->core;
    if (queue->kind == MTASK_PRIORITY)
        mtask__queue_mend_heap(queue);
    side->offset = mtask__queue_count(mtask__load(&side->word, RELAXED)) % queue->capacity *
                   queue->item_size; /* relaxed: the lock orders it */
    if (side == &core->tail)         /* these acquire what mtask__side_unlock released */
        (void)mtask__queue_see(side, mtask__load(&core->head.word, ACQUIRE));
    if (side == queue->get_side)
        (void)mtask__queue_see(&core->head, mtask__load(&core->tail.word, ACQUIRE));
}

static mtask_status mtask__side_lock_robust(mtask_queue *queue, mtask__queue_side *side,
                                            int64_t deadline, size_t *word) {
    int64_t timeout = deadline == 0 ? MTASK_FOREVER : mtask_until(deadline);
    mtask_status status = mtask_shared_mutex_lock_for(&side->robust, timeout);
    if (status == MTASK_OWNER_DEAD) {
        mtask__queue_mend(queue, side);
        status = mtask_shared_mutex_consistent(&side->robust);
    }
    if (status == MTASK_OK)
        *word = mtask__load(&side->word, RELAXED); /* the lock orders it */
    return status;
}

/* ---- >>queue-array: the memory of unbounded queues ---- */

/* The most items that counts can tell apart. */
# define MTASK__QUEUE_MOST ((SIZE_MAX >> MTASK__QUEUE_BITS) / 2)

/* The capacity that an unbounded queue begins with, and up to which it never shrinks. */
# define MTASK__QUEUE_FIRST 32
# define MTASK__QUEUE_LARGE 1024

# if defined(INCLUDE_STB_DS_H) && !defined(MTASK_NO_STB_DS)
#  define MTASK__HAS_STB_DS 1

/* Gives *array, an array of stb_ds or NULL, room for `count` items; unlike stb_ds, it tells when
   there is no memory: false, and the array is as it was. */
static bool mtask__array_resize(void **array, size_t count, size_t item_size) {
    stbds_array_header *header = *array != NULL ? stbds_header(*array) : NULL;
    bool is_new = header == NULL;
    if (count > (SIZE_MAX / 2 - sizeof *header) / item_size)
        return false;
    header = (stbds_array_header *)MTASK_REALLOC(header, sizeof *header + count * item_size);
    if (header == NULL)
        return false;
    if (is_new)
        memset(header, 0, sizeof *header);
    header->capacity = count;
    header->length = count;
    *array = header + 1;
    return true;
}

static void mtask__array_free(void *array) {
    if (array != NULL)
        MTASK_FREE(stbds_header(array));
}
# else
#  define MTASK__HAS_STB_DS 0

static bool mtask__array_resize(void **array, size_t count, size_t item_size) {
    (void)array;
    (void)count;
    (void)item_size;
    return false;
}

static void mtask__array_free(void *array) {
    (void)array;
}
# endif

/* Gives the arrays of an unbounded queue room for `capacity` items. If it fails some may have
   become larger, which does no harm; growing never makes one smaller. */
static bool mtask__queue_resize(mtask_queue *queue, size_t capacity) {
    void *items = queue->items;
    void *order = queue->order;
    void *stamps = queue->stamps;
    bool done = mtask__array_resize(&items, capacity, queue->item_size);
    if (done && queue->kind == MTASK_PRIORITY)
        done = capacity < UINT32_MAX &&
               mtask__array_resize(&order, capacity, sizeof *queue->order) &&
               mtask__array_resize(&stamps, capacity, sizeof *queue->stamps);
    queue->items = (unsigned char *)items;
    queue->order = (uint32_t *)order;
    queue->stamps = (uint32_t *)stamps;
    return done;
}

static void mtask__queue_set_capacity(mtask_queue *queue, size_t capacity) {
    queue->capacity = capacity;
    queue->bytes = capacity * queue->item_size;
}

/* Makes the slots from `first` on free ones. */
static void mtask__queue_clear_slots(mtask_queue *queue, size_t first) {
    if (queue->kind != MTASK_PRIORITY)
        return;
    for (size_t slot = first; slot < queue->capacity; slot++) {
        queue->order[slot] = (uint32_t)slot;
        queue->stamps[slot] = 0;
    }
}

/* Doubles a full queue. What lay in front of the oldest item of a FIFO, because the ring had
   wrapped around, follows the others now. */
static bool mtask__queue_grow(mtask_queue *queue) {
    mtask__queue_side *tail = &queue->core->tail;
    size_t old = queue->capacity;
    size_t old_bytes = queue->bytes;
    if (old > MTASK__QUEUE_MOST / 2 || !mtask__queue_resize(queue, 2 * old))
        return false;
    mtask__queue_set_capacity(queue, 2 * old);
    mtask__queue_clear_slots(queue, old);
    if (queue->kind == MTASK_FIFO) {
        memcpy(queue->items + old_bytes, queue->items, tail->offset);
        tail->offset += old_bytes;
    }
    return true;
}

/* Gives the memory of a queue back that has become empty after it had grown large. */
static void mtask__queue_shrink(mtask_queue *queue) {
    (void)mtask__queue_resize(queue, MTASK__QUEUE_FIRST); /* an array may stay larger: no harm */
    mtask__queue_set_capacity(queue, MTASK__QUEUE_FIRST);
    queue->core->tail.offset = queue->core->head.offset = 0;
    (void)mtask__queue_see(&queue->core->tail, /* the head is there, too */
                           mtask__load(&queue->core->tail.word, RELAXED));
    mtask__queue_clear_slots(queue, 0);
}

/* ---- >>queue-move: put and get ---- */

/* How many places there are, if `wanted` are wanted, at the tail, which is locked and stands at
   `tail`. */
MTASK__QUEUE_INLINE size_t mtask__queue_room(mtask_queue *queue, size_t tail, size_t wanted) {
    mtask__queue_core *core = queue->core;
    size_t seen = mtask__load(&core->tail.seen, RELAXED); /* the lock orders it */
    size_t room = queue->capacity - mtask__queue_distance(queue, seen, tail);
    if (MTASK__LIKELY(room >= wanted))
        return room;
    /* acquire: pairs with mtask__side_unlock; the places it tells of have been copied out */
    seen = mtask__queue_see(&core->tail, mtask__load(&core->head.word, ACQUIRE));
    return queue->capacity - mtask__queue_distance(queue, seen, tail);
}

/* How many items there are, if `wanted` are wanted, at the head, which is locked and stands at
   `head`. If there are none, *closed receives whether no more can come. */
MTASK__QUEUE_INLINE size_t mtask__queue_stock(mtask_queue *queue, size_t head, size_t wanted,
                                              bool *closed) {
    mtask__queue_core *core = queue->core;
    size_t seen = mtask__load(&core->head.seen, RELAXED); /* the lock orders it */
    size_t stock = mtask__queue_distance(queue, head, seen);
    size_t word;
    if (MTASK__LIKELY(stock >= wanted))
        return stock;
    /* acquire: pairs with mtask__side_unlock; the items it tells of have been copied in */
    word = mtask__load(&core->tail.word, ACQUIRE);
    *closed = (word & MTASK__QUEUE_CLOSED) != 0;
    return mtask__queue_distance(queue, head, mtask__queue_see(&core->head, word));
}

MTASK__QUEUE_INLINE void mtask__queue_copy_in(mtask_queue *queue, size_t tail,
                                              const unsigned char *items, size_t n) {
    size_t size;
    if (queue->kind == MTASK_FIFO) {
        mtask__ring_put(queue, items, n);
        return;
    }
    size = mtask__queue_distance(
        queue, mtask__queue_count(mtask__load(&queue->core->head.word, RELAXED)), tail);
    if (queue->kind == MTASK_LIFO) /* relaxed: it is guarded by the tail's lock, too */
        mtask__queue_copy(mtask__queue_slot(queue, size), items, n * queue->item_size);
    else
        for (size_t i = 0; i < n; i++)
            mtask__queue_heap_put(queue, size + i, items + i * queue->item_size);
}

/* Where the item lies that comes next, of `size`. */
MTASK__QUEUE_INLINE void *mtask__queue_next(const mtask_queue *queue, size_t size) {
    if (queue->kind == MTASK_FIFO)
        return queue->items + queue->core->head.offset;
    return mtask__queue_slot(queue, queue->kind == MTASK_LIFO ? size - 1 : queue->order[0]);
}

/* Forgets the item that comes next, of `size`. */
static void mtask__queue_drop(mtask_queue *queue, size_t size) {
    if (queue->kind == MTASK_PRIORITY)
        mtask__queue_heap_drop(queue, size);
    else if (queue->kind == MTASK_FIFO)
        (void)mtask__ring_step(queue, &queue->core->head);
}

MTASK__QUEUE_INLINE void mtask__queue_copy_out(mtask_queue *queue, size_t size,
                                               unsigned char *items, size_t n) {
    if (queue->kind == MTASK_FIFO) {
        mtask__ring_get(queue, items, n);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        mtask__queue_copy(items + i * queue->item_size, mtask__queue_next(queue, size - i),
                          queue->item_size);
        mtask__queue_drop(queue, size - i);
    }
}

/* Opens the gate for those at the other end, who get `n`; publishes `word`, and with it unlocks;
   wakes. Nothing of a private queue is touched after that. `slept`: see mtask__gate_pass. `plain`
   is a constant: true where the queue is known to be a bounded FIFO of one process, false where it
   has to be asked. */
MTASK__QUEUE_INLINE void mtask__queue_publish(mtask_queue *queue, bool plain, mtask_queue_op op,
                                              size_t word, size_t n, bool slept) {
    mtask__queue_gate *own = mtask__queue_gate_of(queue, op);
    mtask__queue_gate *other = mtask__queue_gate_of(queue, op == MTASK_GET ? MTASK_PUT : MTASK_GET);
    mtask__queue_side *side = mtask__queue_side_of(queue, plain, op);
    int flags = plain || !queue->shared ? 0 : MTASK_SHARED;
    bool counted = op == MTASK_GET && !plain && mtask__queue_is_one(queue); /* by now */
    int pass = slept ? mtask__gate_pass(queue, op, counted ? 0 : n, true) : 0;
    int wake = 0;
    if (flags == 0)
        wake = mtask__gate_open(queue, other, n);
    mtask__side_unlock(queue, plain, side, word);
    if (flags != 0)
        wake = mtask__gate_open(queue, other, n);
    if (MTASK__UNLIKELY(wake > 0))
        mtask__wake(&other->word, wake, flags);
    if (MTASK__UNLIKELY(pass > 0))
        mtask__wake(&own->word, pass, flags);
}

/* Puts as many of `n` as there is room for, with the tail locked at `word`, and unlocks it. Returns
   how many; if none, *status receives why. */
MTASK__QUEUE_INLINE size_t mtask__queue_put_locked(mtask_queue *queue, size_t word,
                                                   const unsigned char *items, size_t n, bool slept,
                                                   mtask_status *status) {
    size_t tail = mtask__queue_count(word);
    size_t room = 0;
    *status = MTASK_CLOSED;
    if (MTASK__LIKELY((word & MTASK__QUEUE_CLOSED) == 0)) {
        *status = MTASK_FULL;
        room = mtask__queue_room(queue, tail, n);
    }
    if (room == 0 && queue->unbounded && *status == MTASK_FULL) {
        *status = MTASK_NOMEM;
        if (mtask__queue_grow(queue))
            room = queue->capacity / 2;
    }
    n = n < room ? n : room;
    if (MTASK__UNLIKELY(n == 0)) {
        mtask__side_unlock(queue, false, &queue->core->tail, word);
        return 0;
    }
    mtask__queue_copy_in(queue, tail, items, n);
    mtask__queue_publish(queue, false, MTASK_PUT, mtask__queue_advance(queue, word, n), n, slept);
    return n;
}

/* Counts what was taken where both ends lock the tail. */
MTASK__QUEUE_INLINE void mtask__queue_count_head(mtask_queue *queue, size_t word) {
    if (queue->shared) /* it is published here, before the gate is opened */
        mtask__store(&queue->core->head.word, word, SEQ_CST);
    else
        mtask__store(&queue->core->head.word, word, RELEASE); /* pairs with mtask__queue_amount */
}

/* Gets as many of `n` as there are, from the end whose lock is held at `word`, and unlocks it.
   Returns how many; if none, *status receives why. */
MTASK__QUEUE_INLINE size_t mtask__queue_get_locked(mtask_queue *queue, size_t word,
                                                   unsigned char *items, size_t n, bool slept,
                                                   mtask_status *status) {
    mtask__queue_side *head = &queue->core->head;
    bool one = mtask__queue_is_one(queue);
    bool closed = (word & MTASK__QUEUE_CLOSED) != 0;                 /* if it is the tail's word */
    size_t counted = one ? mtask__load(&head->word, RELAXED) : word; /* the lock orders it */
    size_t from = mtask__queue_count(counted);
    size_t stock = one ? mtask__queue_distance(queue, from, mtask__queue_count(word))
                       : mtask__queue_stock(queue, from, n, &closed);
    n = n < stock ? n : stock;
    if (MTASK__UNLIKELY(n == 0)) {
        *status = closed ? MTASK_CLOSED : MTASK_EMPTY;
        mtask__side_unlock(queue, false, queue->get_side, word);
        return 0;
    }
    mtask__queue_copy_out(queue, stock, items, n);
    counted = mtask__queue_advance(queue, counted, n);
    if (one) {
        mtask__queue_count_head(queue, counted);
        if (queue->unbounded && n == stock && queue->capacity > MTASK__QUEUE_LARGE)
            mtask__queue_shrink(queue);
        counted = word;
    }
    mtask__queue_publish(queue, false, MTASK_GET, counted, n, slept);
    return n;
}

static void mtask__queue_unsignal(mtask_queue *queue);

/* A put or get under way. */
typedef struct mtask__queue_move {
    unsigned char *items; /* what is left to be moved */
    size_t count;
    size_t moved; /* so far */
    bool slept;   /* it owes a mtask__gate_pass */
} mtask__queue_move;

/* One try. MTASK_OK: at least one item. MTASK_FULL, MTASK_EMPTY: it has to wait, or `deadline`
   passed while the end was locked. */
static mtask_status mtask__queue_try(mtask_queue *queue, mtask_queue_op op, mtask__queue_move *move,
                                     int64_t deadline) {
    bool endless = op == MTASK_PUT && queue->unbounded; /* it is never full */
    size_t item_size = queue->item_size;
    size_t word = 0;
    size_t n;
    mtask_status status = mtask__side_lock(queue, mtask__queue_side_of(queue, false, op),
                                           endless ? 0 : deadline, &word);
    if (status == MTASK_TIMEOUT)
        return op == MTASK_GET ? MTASK_EMPTY : MTASK_FULL;
    if (status != MTASK_OK)
        return status;
    if (op == MTASK_GET)
        n = mtask__queue_get_locked(queue, word, move->items, move->count, move->slept, &status);
    else
        n = mtask__queue_put_locked(queue, word, move->items, move->count, move->slept, &status);
    if (n == 0)
        return status;
    move->items += n * item_size; /* the queue may be gone by now */
    move->count -= n;
    move->moved += n;
    move->slept = false; /* the pass has been made */
    return MTASK_OK;
}

# define MTASK__QUEUE_PATIENCE 32 /* the longest pause between two looks */
# define MTASK__QUEUE_YIELDS   16 /* how often other threads are let run before one sleeps */

/* Looks with pauses in between, which are long from the beginning where the queue is large: that
   lets the other side go on undisturbed, and when one looks there is more to be had at once. It
   makes about twice as many pauses as were enough lately, MTASK_QUEUE_SPIN at most: none to speak
   of where they do not help, because the other side does not run at the same time. */
static bool mtask__queue_spin(mtask_queue *queue, mtask_queue_op op) {
    mtask__queue_gate *gate = mtask__queue_gate_of(queue, op);
    mtask_word learned = mtask__load(&gate->spin, RELAXED); /* a hint: nothing relies on it */
    size_t places = queue->unbounded ? SIZE_MAX : queue->capacity / 8 + 1;
    unsigned pauses = places < MTASK__QUEUE_PATIENCE ? (unsigned)places : MTASK__QUEUE_PATIENCE;
    unsigned most = 2 * learned + 10 < MTASK_QUEUE_SPIN ? 2 * learned + 10 : MTASK_QUEUE_SPIN;
    unsigned spent = 0;
    bool found = false;
    while (!found && spent < most && mtask__spin(pauses)) {
        found = mtask__queue_is_sure(queue, op);
        spent += pauses;
        pauses = pauses < MTASK__QUEUE_PATIENCE / 2 ? 2 * pauses : MTASK__QUEUE_PATIENCE;
    }
    mtask__store(&gate->spin, (7 * learned + (found ? spent : 0)) / 8, RELAXED);
    return found;
}

/* Looks before it sleeps whether that can be spared. After the pauses it lets other threads run: if
   the two share a CPU, the other side goes on at once, for a fraction of what a wake-up costs; and
   where nobody else wants the CPU, a system call takes as long as some pauses. */
static bool mtask__queue_look(mtask_queue *queue, mtask_queue_op op) {
    if (mtask__task_current()->parker != NULL) /* a task parks at once: that costs less */
        return mtask__queue_is_ready(queue, op);
    if (mtask__queue_spin(queue, op))
        return true;
    for (int i = 0; !queue->calm && i < MTASK__QUEUE_YIELDS && mtask__spin(0); i++) {
        mtask__yield();
        if (mtask__queue_is_sure(queue, op))
            return true;
    }
    return mtask__queue_is_ready(queue, op);
}

/* Waits until it is worth trying again. *turn counts how often it was in vain. */
static mtask_status mtask__queue_wait(mtask_queue *queue, mtask_queue_op op, int64_t deadline,
                                      mtask__queue_move *move, unsigned *turn) {
    if (mtask__queue_look(queue, op)) {
        if (mtask__queue_amount(queue, op) == 0 || ++*turn > 16)
            mtask__backoff(turn); /* one who does not run has the lock, or others are faster */
        return mtask__is_over(deadline) ? MTASK_TIMEOUT : MTASK_OK;
    }
    *turn = 0;
    move->slept = true;
    return mtask__gate_sleep(queue, op, deadline);
}

/* Moves what `move` says, until the timeout ends: for a put all, for a get at least one. Whoever
   has been waiting tries once more before it gives up. */
static MTASK__QUEUE_NOINLINE mtask_status mtask__queue_run(mtask_queue *queue, mtask_queue_op op,
                                                           mtask__queue_move *move,
                                                           int64_t timeout) {
    mtask_status would_wait = op == MTASK_GET ? MTASK_EMPTY : MTASK_FULL;
    mtask_status waited = MTASK_OK;
    unsigned turn = 0;
    int64_t deadline;
    mtask_status status = mtask__deadline(timeout, &deadline);
    if (status != MTASK_OK)
        return status;
    for (;;) {
        bool last = deadline == 0 || waited != MTASK_OK; /* its lock is a fence, too */
        status = would_wait; /* of a shared queue, only a try finds out whether it must be mended */
        if (last || queue->shared || mtask__queue_is_sure(queue, op))
            status = mtask__queue_try(queue, op, move, deadline);
        if (status == MTASK_OK && (op == MTASK_GET || move->count == 0))
            return MTASK_OK;
        if (status == MTASK_OK)
            continue;
        if (status != would_wait || last)
            break;
        if (status == MTASK_EMPTY)
            mtask__queue_unsignal(queue);
        waited = mtask__queue_wait(queue, op, deadline, move, &turn);
    }
    if (status == MTASK_EMPTY)
        mtask__queue_unsignal(queue);
    if (move->slept)
        mtask__gate_wake(queue, mtask__queue_gate_of(queue, op),
                         mtask__gate_pass(queue, op, 0, false));
    return status == would_wait && waited != MTASK_OK && waited != MTASK_TIMEOUT ? waited : status;
}

/* Whether a queue has been initialised. */
MTASK__QUEUE_INLINE bool mtask__queue_is_live(const mtask_queue *queue) {
    return queue != NULL && queue->core != NULL;
}

/* A put or get of one item: the first try, which does not wait, or else all that may follow. */
static MTASK__QUEUE_NOINLINE mtask_status mtask__queue_move_one(mtask_queue *queue,
                                                                mtask_queue_op op, void *item,
                                                                int64_t timeout) {
    mtask__queue_move move = {(unsigned char *)item, 1, 0, false};
    mtask_status status;
    size_t word;
    size_t moved = 0;
    if (!mtask__queue_is_live(queue) || item == NULL || timeout < 0)
        return MTASK_INVALID;
    if (!queue->plain && !queue->shared &&
        mtask__side_try(mtask__queue_side_of(queue, false, op), &word))
        moved = op == MTASK_PUT
                    ? mtask__queue_put_locked(queue, word, move.items, 1, false, &status)
                    : mtask__queue_get_locked(queue, word, move.items, 1, false, &status);
    return moved != 0 ? MTASK_OK : mtask__queue_run(queue, op, &move, timeout);
}

/* The same for a plain queue, at the least cost. What was seen last of the other side is looked at
   before the lock is taken: if it says that there is room (an item), then that still holds if the
   lock can be taken while the word is as it was, since both change under the lock alone. If not,
   the other side is looked at; and if that is in vain, too, the line of the lock stays with those
   who can go on. The word is acquired (pairs with mtask__side_unlock), so that what was seen is not
   older than the word: it would pass for room, or for an item, that is long gone. */
MTASK__QUEUE_INLINE bool mtask__queue_put_plain(mtask_queue *queue, const void *item) {
    mtask__queue_side *tail = &queue->core->tail;
    mtask__queue_side *head = &queue->core->head;
    size_t word = mtask__load(&tail->word, ACQUIRE);
    size_t seen = mtask__load(&tail->seen, RELAXED);
    size_t at = mtask__queue_count(word);
    if (MTASK__UNLIKELY(mtask__queue_distance(queue, seen, at) == queue->capacity)) {
        /* acquire: pairs with mtask__side_unlock; the place it tells of has been copied out */
        seen = mtask__queue_count(mtask__load(&head->word, ACQUIRE));
        if (mtask__queue_distance(queue, seen, at) == queue->capacity)
            return false;
    }
    if (MTASK__UNLIKELY((word & (MTASK__QUEUE_LOCKED | MTASK__QUEUE_CLOSED)) != 0) ||
        !mtask__cas(&tail->word, &word, word | MTASK__QUEUE_LOCKED, SEQ_CST))
        return false;
    mtask__store(&tail->seen, seen, RELAXED); /* under the lock */
    mtask__queue_copy(mtask__ring_step(queue, tail), item, queue->item_size);
    mtask__queue_publish(queue, true, MTASK_PUT, mtask__queue_advance(queue, word, 1), 1, false);
    return true;
}

MTASK__QUEUE_INLINE bool mtask__queue_get_plain(mtask_queue *queue, void *item) {
    mtask__queue_side *tail = &queue->core->tail;
    mtask__queue_side *head = &queue->core->head;
    size_t word = mtask__load(&head->word, ACQUIRE);
    size_t seen = mtask__load(&head->seen, RELAXED);
    if (seen == mtask__queue_count(word)) {
        /* acquire: pairs with mtask__side_unlock; the item it tells of has been copied in */
        seen = mtask__queue_count(mtask__load(&tail->word, ACQUIRE));
        if (seen == mtask__queue_count(word))
            return false;
    }
    if (MTASK__UNLIKELY((word & MTASK__QUEUE_LOCKED) != 0) ||
        !mtask__cas(&head->word, &word, word | MTASK__QUEUE_LOCKED, SEQ_CST))
        return false;
    mtask__store(&head->seen, seen, RELAXED); /* under the lock */
    mtask__queue_copy(item, mtask__ring_step(queue, head), queue->item_size);
    mtask__queue_publish(queue, true, MTASK_GET, mtask__queue_advance(queue, word, 1), 1, false);
    return true;
}

/* Not inlined, also where the caller is in the same file: a compiler that sees an int there warns
   of the copy of 8 bytes that would not be made. */
MTASK__QUEUE_NOINLINE MTASK_API mtask_status mtask_queue_put(mtask_queue *queue, const void *item,
                                                             int64_t timeout) {
    if (MTASK__LIKELY(queue != NULL && queue->plain && item != NULL && timeout >= 0) &&
        MTASK__LIKELY(mtask__queue_put_plain(queue, item)))
        return MTASK_OK;
    return mtask__queue_move_one(queue, MTASK_PUT, (void *)(uintptr_t)item, timeout);
}

MTASK__QUEUE_NOINLINE MTASK_API mtask_status mtask_queue_get(mtask_queue *queue, void *item,
                                                             int64_t timeout) {
    if (MTASK__LIKELY(queue != NULL && queue->plain && item != NULL && timeout >= 0) &&
        MTASK__LIKELY(mtask__queue_get_plain(queue, item)))
        return MTASK_OK;
    return mtask__queue_move_one(queue, MTASK_GET, item, timeout);
}

static mtask_status mtask__queue_move_many(mtask_queue *queue, mtask_queue_op op, void *items,
                                           size_t count, size_t *moved, int64_t timeout) {
    mtask__queue_move move = {(unsigned char *)items, count, 0, false};
    mtask_status status = MTASK_OK;
    if (!mtask__queue_is_live(queue) || timeout < 0 || (items == NULL && count > 0))
        status = MTASK_INVALID;
    else if (count > 0)
        status = mtask__queue_run(queue, op, &move, timeout);
    if (moved != NULL)
        *moved = move.moved;
    return status;
}

MTASK_API mtask_status mtask_queue_put_many(mtask_queue *queue, const void *items, size_t count,
                                            size_t *moved, int64_t timeout) {
    return mtask__queue_move_many(queue, MTASK_PUT, (void *)(uintptr_t)items, count, moved,
                                  timeout);
}

MTASK_API mtask_status mtask_queue_get_many(mtask_queue *queue, void *items, size_t count,
                                            size_t *moved, int64_t timeout) {
    return mtask__queue_move_many(queue, MTASK_GET, items, count, moved, timeout);
}

MTASK_API mtask_status mtask_queue_peek(mtask_queue *queue, void *item) {
    mtask_status status;
    size_t word;
    size_t tail;
    size_t stock;
    if (!mtask__queue_is_live(queue) || item == NULL)
        return MTASK_INVALID;
    status = mtask__side_lock(queue, queue->get_side, 0, &word);
    if (status != MTASK_OK)
        return status;
    tail = mtask__load(&queue->core->tail.word, SEQ_CST);
    stock = mtask__queue_distance(queue,
                                  mtask__queue_count(mtask__load(&queue->core->head.word, RELAXED)),
                                  mtask__queue_count(tail)); /* relaxed: the head is locked */
    if (stock != 0)
        mtask__queue_copy(item, mtask__queue_next(queue, stock), queue->item_size);
    else
        status = (tail & MTASK__QUEUE_CLOSED) != 0 ? MTASK_CLOSED : MTASK_EMPTY;
    mtask__side_unlock(queue, false, queue->get_side, word);
    return status;
}

/* How far the tail is ahead of a count that others raise: that is read on both sides of the tail,
   and if it did not move, the two belong together. The fence lets what this thread stored before be
   seen before it looks: so calls on several queues agree on an order, too. */
static size_t mtask__queue_ahead(const mtask_queue *queue, const size_t *counter, unsigned bits) {
    size_t *word = (size_t *)(uintptr_t)counter;
    size_t again = mtask__fence_load(word) >> bits;
    size_t count;
    size_t tail;
    do {
        count = again;
        tail = mtask__queue_count(mtask__load(&queue->core->tail.word, SEQ_CST));
        again = mtask__load(word, SEQ_CST) >> bits;
    } while (count != again);
    return mtask__queue_distance(queue, count, tail);
}

MTASK_API size_t mtask_queue_size(const mtask_queue *queue) {
    if (!mtask__queue_is_live(queue))
        return 0;
    return mtask__queue_ahead(queue, &queue->core->head.word, MTASK__QUEUE_BITS);
}

MTASK_API bool mtask_queue_is_empty(const mtask_queue *queue) {
    return mtask_queue_size(queue) == 0;
}

MTASK_API bool mtask_queue_is_full(const mtask_queue *queue) {
    return mtask__queue_is_live(queue) && !queue->unbounded &&
           mtask_queue_size(queue) == queue->capacity;
}

MTASK_API bool mtask_queue_is_closed(const mtask_queue *queue) {
    return mtask__queue_is_live(queue) &&
           (mtask__fence_load(&queue->core->tail.word) & MTASK__QUEUE_CLOSED) != 0;
}

/* Opens a gate for all, also for those whose flag was cleared for one before them. */
static int mtask__gate_open_all(mtask_queue *queue, mtask__queue_gate *gate) {
    mtask__or(&gate->word, MTASK__GATE_WAITERS, SEQ_CST);
    return mtask__gate_open(queue, gate, SIZE_MAX);
}

/* Publishes CLOSED, and wakes all. */
static void mtask__queue_close_locked(mtask_queue *queue, size_t word) {
    mtask__queue_gate *filled = &queue->core->filled;
    mtask__queue_gate *freed = &queue->core->freed;
    mtask__queue_side *tail = &queue->core->tail;
    int flags = queue->shared ? MTASK_SHARED : 0;
    if (flags != 0)
        mtask__store(&tail->word, word | MTASK__QUEUE_CLOSED, SEQ_CST);
    else /* CLOSED itself comes last: whoever sees it may free the queue */
        mtask__store(&queue->core->closing, 1, SEQ_CST);
    (void)mtask__gate_open_all(queue, filled);
    (void)mtask__gate_open_all(queue, freed);
    mtask__side_unlock(queue, false, tail, word | MTASK__QUEUE_CLOSED);
    mtask__wake(&filled->word, INT_MAX, flags);
    mtask__wake(&freed->word, INT_MAX, flags);
}

MTASK_API mtask_status mtask_queue_close(mtask_queue *queue) {
    mtask_status status;
    size_t word;
    if (!mtask__queue_is_live(queue))
        return MTASK_INVALID;
    status = mtask__side_lock(queue, &queue->core->tail, 0, &word);
    if (status != MTASK_OK)
        return status;
    if ((word & MTASK__QUEUE_CLOSED) != 0)
        mtask__side_unlock(queue, false, &queue->core->tail, word);
    else
        mtask__queue_close_locked(queue, word);
    return MTASK_OK;
}

/* ---- >>queue-done: task_done and join ---- */

/* Why join misses no end: `done` holds the flag of the joiners beside the count, so the change to
   the last item sees it; and a joiner sleeps only while the word's lower half is as it was. The
   half returns to a value only after 2^30 items. */

/* The half of `done` that futexes can wait on. */
static mtask_word *mtask__queue_done_word(mtask_queue *queue) {
# if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    return &queue->core->done.half[sizeof(size_t) / sizeof(mtask_word) - 1];
# else
    return &queue->core->done.half[0];
# endif
}

MTASK_API size_t mtask_queue_unfinished(const mtask_queue *queue) {
    if (!mtask__queue_is_live(queue))
        return 0;
    return mtask__queue_ahead(queue, &queue->core->done.word, 1);
}

/* Counts `n` more as done, or as many as there are if `clamp`; false: there are not so many. */
static bool mtask__queue_finish(mtask_queue *queue, size_t n, bool clamp) {
    size_t *done = &queue->core->done.word;
    mtask_word *address = mtask__queue_done_word(queue);
    int flags = queue->shared ? MTASK_SHARED : 0;
    size_t word = mtask__load(done, SEQ_CST);
    size_t next;
    size_t left;
    do {
        size_t tail = mtask__queue_count(mtask__load(&queue->core->tail.word, SEQ_CST));
        left = mtask__queue_distance(queue, word >> 1, tail);
        if (left < n && !clamp)
            return false;
        n = left < n ? left : n;
        next = (word >> 1) + n;
        next = (next >= queue->span ? next - queue->span : next) << 1;
        next |= left > n ? word & 1 : 0; /* the last one clears the flag */
    } while (!mtask__cas(done, &word, next, SEQ_CST));
    if (left == n && (word & 1) != 0) /* from here on only the address */
        mtask__wake(address, INT_MAX, flags);
    return true;
}

MTASK_API mtask_status mtask_queue_task_done(mtask_queue *queue) {
    if (!mtask__queue_is_live(queue))
        return MTASK_INVALID;
    return mtask__queue_finish(queue, 1, false) ? MTASK_OK : MTASK_OVERFLOW;
}

static mtask_status mtask__queue_join_until(mtask_queue *queue, int64_t deadline) {
    mtask_status status = MTASK_OK;
    while (mtask_queue_unfinished(queue) != 0) {
        size_t word = mtask__load(&queue->core->done.word, SEQ_CST);
        if (deadline == 0)
            return MTASK_TIMEOUT;
        if (status != MTASK_OK)
            return status;
        if ((word & 1) == 0 && !mtask__cas(&queue->core->done.word, &word, word | 1, SEQ_CST))
            continue;
        if (mtask_queue_unfinished(queue) != 0)
            status = mtask__wait(mtask__queue_done_word(queue), (mtask_word)(word | 1), deadline,
                                 queue->shared ? MTASK_SHARED : 0);
    }
    return MTASK_OK;
}

MTASK_API mtask_status mtask_queue_join(mtask_queue *queue, int64_t timeout) {
    int64_t deadline;
    mtask_status status = mtask__deadline(timeout, &deadline);
    if (!mtask__queue_is_live(queue))
        return MTASK_INVALID;
    if (status != MTASK_OK)
        return status;
    mtask__add(&queue->core->joiners, 1, RELAXED); /* for deinit alone */
    status = mtask__queue_join_until(queue, deadline);
    mtask__sub(&queue->core->joiners, 1, RELAXED);
    return status;
}

/* Throws the first of `stock` items away, and counts it as taken at once: if fn ends the process,
   what has been thrown away does not come back. */
static void mtask__queue_discard_one(mtask_queue *queue, size_t stock,
                                     void (*fn)(void *item, void *ctx), void *ctx) {
    mtask__queue_side *head = &queue->core->head;
    size_t word = mtask__load(&head->word, RELAXED); /* the lock orders it */
    size_t locked = word & MTASK__QUEUE_LOCKED;
    if (fn != NULL)
        fn(mtask__queue_next(queue, stock), ctx);
    mtask__queue_drop(queue, stock);
    mtask__store(&head->word, mtask__queue_advance(queue, word, 1) | locked, SEQ_CST);
    if (queue->shared) /* at once: a kill leaves at most one that is not counted as done */
        mtask__queue_finish(queue, 1, true);
}

MTASK_API mtask_status mtask_queue_discard(mtask_queue *queue, void (*fn)(void *item, void *ctx),
                                           void *ctx, size_t *discarded) {
    mtask__queue_side *side;
    mtask_status status;
    size_t word;
    size_t n;
    if (discarded != NULL)
        *discarded = 0;
    if (!mtask__queue_is_live(queue))
        return MTASK_INVALID;
    side = queue->get_side;
    status = mtask__side_lock(queue, side, 0, &word);
    if (status != MTASK_OK)
        return status;
    n = mtask__queue_amount(queue, MTASK_GET);
    for (size_t stock = n; stock > 0; stock--)
        mtask__queue_discard_one(queue, stock, fn, ctx);
    if (!mtask__queue_is_one(queue)) {
        word = mtask__load(&side->word, RELAXED) & ~(size_t)MTASK__QUEUE_LOCKED;
        (void)mtask__queue_see(side, word); /* it must not lie behind */
    }
    if (n == 0) {
        mtask__side_unlock(queue, false, side, word);
        return MTASK_OK;
    }
    mtask__queue_publish(queue, false, MTASK_GET, word, n, false);
    if (!queue->shared) /* last: the one who joins may free the queue */
        mtask__queue_finish(queue, n, true);
    if (discarded != NULL)
        *discarded = n;
    return MTASK_OK;
}

/* ---- >>queue-listen: select, and the descriptor ---- */

/* A select links a listener into the gate of each of its cases, then looks at all once more, and
   sleeps on its signal. Whoever opens a gate with LISTENERS fires the oldest that has not been
   fired yet, for each item or place one. A select that leaves tells the next, if there is more. Why
   no wake-up is lost: as in >>queue-gate, with LISTENERS for WAITERS, and the count of the signal
   for the word: it is reset before the last look. */

static mtask_queue_case *mtask__case_of(mtask__listener *listener) {
    return (mtask_queue_case *)(void *)((unsigned char *)listener -
                                        offsetof(mtask_queue_case, listener));
}

/* Fires `n` listeners that have not been fired yet, the oldest first: they are linked at the front.
   */
static void mtask__gate_fire(mtask__queue_gate *gate, size_t n) {
    mtask__listener *listener = gate->listeners;
    while (listener != NULL && listener->next != NULL)
        listener = listener->next;
    for (; listener != NULL && n > 0; listener = listener->prev) {
        mtask_queue_case *one = mtask__case_of(listener);
        if (one->fired)
            continue;
        one->fired = true;
        mtask__signal_fire(listener->signal, false);
        n--;
    }
}

/* Makes the descriptor readable. The look at `signaled` is sequentially consistent, after the lock
   of the tail; mtask__queue_unsignal clears it and then looks at the tail: so one sees the other.
   */
static void mtask__queue_signal(mtask_queue *queue) {
    mtask__queue_core *core = queue->core;
    if (mtask__load(&core->signaled, SEQ_CST) != 0)
        return;
    mtask__lock(&core->listen_lock);
    if (mtask__load(&core->signaled, RELAXED) == 0) {
        mtask__os_notifier_set(core->notifier);
        mtask__store(&core->signaled, 1, SEQ_CST); /* after: who sees it, relies on it */
    }
    mtask__unlock(&core->listen_lock);
}

/* A get found the queue empty: the descriptor must not stay readable, unless items come just now.
   */
static void mtask__queue_unsignal(mtask_queue *queue) {
    mtask__queue_core *core = queue->core;
    if ((mtask__load(&core->filled.word, SEQ_CST) & MTASK__GATE_WATCHED) == 0)
        return;
    mtask__lock(&core->listen_lock); /* a look at `signaled` without it could miss one to come */
    if (mtask__load(&core->signaled, RELAXED) != 0) {
        mtask__store(&core->signaled, 0, SEQ_CST);
        if (mtask__queue_is_ready(queue, MTASK_GET)) {
            mtask__os_notifier_set(core->notifier); /* again, for those who wait for an edge */
            mtask__store(&core->signaled, 1, SEQ_CST);
        } else { /* a put that comes now sees 0, and waits for the lock */
            mtask__os_notifier_clear(core->notifier);
        }
    }
    mtask__unlock(&core->listen_lock);
}

static void mtask__gate_tell(mtask_queue *queue, mtask__queue_gate *gate, mtask_word word,
                             size_t n) {
    if ((word & MTASK__GATE_LISTENERS) != 0) {
        mtask__lock(&queue->core->listen_lock);
        mtask__gate_fire(gate, n);
        mtask__unlock(&queue->core->listen_lock);
    }
    if ((word & MTASK__GATE_WATCHED) != 0)
        mtask__queue_signal(queue);
}

MTASK_API mtask_status mtask_queue_pollfd(mtask_queue *queue, int *fd) {
    mtask_status status = MTASK_OK;
    mtask__queue_core *core;
    if (!mtask__queue_is_live(queue) || fd == NULL)
        return MTASK_INVALID;
    if (queue->shared)
        return MTASK_UNSUPPORTED;
    core = queue->core;
    mtask__lock(&core->listen_lock);
    if ((mtask__load(&core->filled.word, RELAXED) & MTASK__GATE_WATCHED) == 0) {
        status = mtask__os_notifier_open(core->notifier);
        if (status == MTASK_OK)
            mtask__or(&core->filled.word, MTASK__GATE_WATCHED, SEQ_CST);
    }
    mtask__unlock(&core->listen_lock);
    if (status != MTASK_OK)
        return status;
    if (mtask__queue_is_ready(queue, MTASK_GET)) /* after the flag: as a last look before sleep */
        mtask__queue_signal(queue);
    *fd = core->notifier[0];
    return MTASK_OK;
}

/* Whether a queue of this process can tell of the case. */
static bool mtask__case_listens(const mtask_queue_case *one) {
    return one->queue != NULL && !one->queue->shared;
}

static mtask__queue_gate *mtask__case_gate(const mtask_queue_case *one) {
    return mtask__queue_gate_of(one->queue, one->op);
}

static uint32_t mtask__select_random(uint32_t *random) {
    *random ^= *random << 13; /* Marsaglia's xorshift, 2003 */
    *random ^= *random >> 17;
    return *random ^= *random << 5;
}

/* The index of one case that is sure to succeed, each with the same chance (reservoir sampling); if
   there is none, of one that is worth trying, and *sure is false; or else n. */
static size_t mtask__select_pick(const mtask_queue_case *cases, size_t n, uint32_t *random,
                                 bool *sure) {
    size_t picked = n;
    uint32_t count = 0;
    *sure = false;
    for (size_t i = 0; i < n; i++) {
        if (cases[i].queue == NULL || !mtask__queue_is_ready(cases[i].queue, cases[i].op))
            continue;
        if (!mtask__queue_is_sure(cases[i].queue, cases[i].op)) {
            picked = *sure ? picked : i;
            continue;
        }
        *sure = true;
        if (((uint64_t)mtask__select_random(random) * ++count) >> 32 == 0)
            picked = i;
    }
    return picked;
}

/* Links the cases; those of shared queues are only looked at. */
static void mtask__select_link(mtask_queue_case *cases, size_t n, mtask__signal *signal) {
    for (size_t i = 0; i < n; i++) {
        mtask_queue_case *one = &cases[i];
        if (!mtask__case_listens(one))
            continue;
        one->fired = false;
        one->listener.signal = signal;
        mtask__lock(&one->queue->core->listen_lock);
        mtask__listener_link(&mtask__case_gate(one)->listeners, &one->listener);
        mtask__or(&mtask__case_gate(one)->word, MTASK__GATE_LISTENERS, SEQ_CST);
        mtask__unlock(&one->queue->core->listen_lock);
    }
}

/* Forgets what the cases were told, before they are looked at again. */
static void mtask__select_reset(mtask_queue_case *cases, size_t n, mtask__signal *signal) {
    mtask__store(&signal->fired, 0, SEQ_CST);
    for (size_t i = 0; i < n; i++) {
        if (!mtask__case_listens(&cases[i]))
            continue;
        mtask__lock(&cases[i].queue->core->listen_lock);
        cases[i].fired = false;
        mtask__unlock(&cases[i].queue->core->listen_lock);
    }
}

/* Unlinks the cases. This select may have been told of more than it took: where there still is
   something to be had, somebody else must hear of it; so first all are unlinked, then it is told.
   */
static void mtask__select_unlink(mtask_queue_case *cases, size_t n) {
    for (size_t i = 0; i < n; i++) {
        mtask__queue_gate *gate;
        if (!mtask__case_listens(&cases[i]))
            continue;
        gate = mtask__case_gate(&cases[i]);
        mtask__lock(&cases[i].queue->core->listen_lock);
        mtask__listener_unlink(&gate->listeners, &cases[i].listener);
        if (gate->listeners == NULL)
            mtask__and(&gate->word, ~(mtask_word)MTASK__GATE_LISTENERS, SEQ_CST);
        mtask__unlock(&cases[i].queue->core->listen_lock);
    }
    for (size_t i = 0; i < n; i++) {
        mtask_queue *queue = cases[i].queue;
        mtask__queue_gate *gate;
        if (!mtask__case_listens(&cases[i]) || !mtask__queue_is_ready(queue, cases[i].op))
            continue;
        gate = mtask__case_gate(&cases[i]);
        mtask__gate_wake(queue, gate, mtask__gate_open(queue, gate, 1));
    }
}

static mtask_status mtask__select_check(const mtask_queue_case *cases, size_t n, int64_t timeout,
                                        bool *shared) {
    size_t open = 0;
    *shared = false;
    if (timeout < 0 || (cases == NULL && n > 0))
        return MTASK_INVALID;
    for (size_t i = 0; i < n; i++) {
        if (cases[i].queue == NULL)
            continue;
        if (cases[i].queue->core == NULL || cases[i].item == NULL ||
            (cases[i].op != MTASK_GET && cases[i].op != MTASK_PUT))
            return MTASK_INVALID;
        open++;
        *shared = *shared || cases[i].queue->shared;
    }
    return open == 0 && timeout == MTASK_FOREVER ? MTASK_INVALID : MTASK_OK;
}

/* Waits to be told of a case; shared queues cannot tell, so with one of those *nap at most, which
   doubles up to 10 ms. */
static mtask_status mtask__select_wait(mtask__signal *signal, int64_t deadline, bool shared,
                                       int64_t *nap) {
    mtask_status status;
    int64_t end = deadline;
    if (shared) {
        int64_t next = mtask_now() + *nap;
        end = next < deadline ? next : deadline;
        *nap = *nap < MTASK_MS(5) ? 2 * *nap : MTASK_MS(10);
    }
    status = mtask__signal_wait(signal, end);
    if (status == MTASK_OK || (status == MTASK_TIMEOUT && end != deadline))
        return mtask__is_over(deadline) ? MTASK_TIMEOUT : MTASK_OK;
    return status;
}

static uint32_t mtask__select_seed(void) {
    static mtask_word calls;
    return (mtask__add(&calls, 1, RELAXED) * 0x9e3779b1u) | 1; /* only that they differ counts */
}

/* The loop of a select: try what is ready; if nothing is, link, look again, sleep, look again. */
static mtask_status mtask__select_run(mtask_queue_case *cases, size_t n, size_t *taken,
                                      int64_t deadline, bool shared) {
    mtask__signal signal = {0, 1};
    mtask_status waited = MTASK_OK;
    mtask_status status = MTASK_TIMEOUT;
    uint32_t random = mtask__select_seed();
    int64_t nap = MTASK_US(50);
    unsigned turn = 0;
    bool linked = false;
    bool sure;
    for (;;) {
        size_t i = mtask__select_pick(cases, n, &random, &sure);
        if (i < n) {
            status =
                mtask__queue_move_one(cases[i].queue, cases[i].op, cases[i].item, MTASK_NOWAIT);
            if (status != MTASK_EMPTY && status != MTASK_FULL) {
                *taken = i;
                break;
            }
            mtask__backoff(&turn); /* somebody was faster, or the other end is still at work */
            if (sure ? turn <= 16 || !mtask__is_over(deadline)
                     : waited == MTASK_OK && !mtask__is_over(deadline))
                continue;
            waited = waited == MTASK_OK ? MTASK_TIMEOUT : waited;
        }
        if (deadline == 0 || waited != MTASK_OK)
            break;
        if (linked)
            waited = mtask__select_wait(&signal, deadline, shared, &nap);
        else
            mtask__select_link(cases, n, &signal);
        if (linked)
            mtask__select_reset(cases, n, &signal);
        linked = true;
        turn = 0;
    }
    if (linked)
        mtask__select_unlink(cases, n);
    if (*taken < n)
        return status;
    return waited == MTASK_OK ? MTASK_TIMEOUT : waited;
}

MTASK_API mtask_status mtask_queue_select(mtask_queue_case *cases, size_t n, size_t *fired,
                                          int64_t timeout) {
    bool shared;
    size_t taken = n;
    int64_t deadline;
    mtask_status status = mtask__select_check(cases, n, timeout, &shared);
    if (status == MTASK_OK)
        status = mtask__deadline(timeout, &deadline);
    if (status == MTASK_OK)
        status = mtask__select_run(cases, n, &taken, deadline, shared);
    if (fired != NULL)
        *fired = taken;
    return status;
}

/* ---- >>queue-make: init, attach, deinit ---- */

# define MTASK__QUEUE_MAGIC ((mtask_word)0x6d710200 + (mtask_word)sizeof(size_t))

/* The bytes of the slots of a bounded queue, and what lies behind them; 0: too many. */
static size_t mtask__queue_slot_bytes(mtask_queue_kind kind, size_t capacity, size_t item_size) {
    size_t most = PTRDIFF_MAX - MTASK__QUEUE_CORE_SIZE - 2 * MTASK_QUEUE_ALIGN;
    size_t each = item_size + (kind == MTASK_PRIORITY ? 2 * sizeof(uint32_t) : 0);
    size_t bytes;
    if (each < item_size || capacity > most / each || capacity > MTASK__QUEUE_MOST ||
        (kind == MTASK_PRIORITY && capacity >= UINT32_MAX))
        return 0;
    bytes = capacity * item_size;
    if (kind == MTASK_PRIORITY)
        bytes = (bytes + 3) / 4 * 4 + capacity * 2 * sizeof(uint32_t);
    return bytes;
}

static bool mtask__queue_is_kind(mtask_queue_kind kind) {
    return kind == MTASK_FIFO || kind == MTASK_LIFO || kind == MTASK_PRIORITY;
}

/* Whether words can be waited on between processes. */
static bool mtask__queue_can_share(void) {
    mtask_mutex mutex;
    return mtask_mutex_init(&mutex, MTASK_SHARED) == MTASK_OK;
}

static mtask_status mtask__queue_check(const mtask_queue_desc *desc) {
    bool priority = desc->kind == MTASK_PRIORITY;
    bool unbounded = desc->capacity == MTASK_UNBOUNDED;
    bool shared = (desc->flags & MTASK_SHARED) != 0;
    if (!mtask__queue_is_kind(desc->kind) || (desc->flags & ~MTASK_SHARED) != 0 ||
        desc->capacity == 0 || desc->item_size == 0 || priority != (desc->compare != NULL))
        return MTASK_INVALID;
    if (desc->storage == NULL ? shared : unbounded || (uintptr_t)desc->storage % MTASK_QUEUE_ALIGN)
        return MTASK_INVALID;
    if (unbounded && shared)
        return MTASK_INVALID;
    if (shared && !mtask__queue_can_share())
        return MTASK_UNSUPPORTED;
    if (unbounded)
        return MTASK__HAS_STB_DS ? MTASK_OK : MTASK_UNSUPPORTED;
    if (mtask__queue_slot_bytes(desc->kind, desc->capacity, desc->item_size) == 0)
        return MTASK_OVERFLOW;
    if (desc->storage != NULL && desc->storage_size < mtask_queue_storage_size(desc))
        return MTASK_INVALID;
    return MTASK_OK;
}

MTASK_API size_t mtask_queue_storage_size(const mtask_queue_desc *desc) {
    size_t slots;
    if (desc == NULL || !mtask__queue_is_kind(desc->kind) || desc->capacity == 0 ||
        desc->item_size == 0 || desc->capacity == MTASK_UNBOUNDED)
        return 0;
    slots = mtask__queue_slot_bytes(desc->kind, desc->capacity, desc->item_size);
    return slots == 0 ? 0 : MTASK__QUEUE_CORE_SIZE + slots;
}

/* Fills a handle in from the core. */
static void mtask__queue_bind(mtask_queue *queue, mtask__queue_core *core,
                              const mtask_queue_desc *desc) {
    memset(queue, 0, sizeof *queue);
    queue->core = core;
    queue->kind = core->kind;
    queue->shared = core->shared;
    queue->unbounded = core->unbounded;
    queue->plain = core->kind == MTASK_FIFO && !queue->unbounded && !queue->shared;
    queue->item_size = core->item_size;
    queue->span = core->span;
    queue->compare = desc->compare;
    queue->compare_ctx = desc->compare_ctx;
    queue->get_side = core->kind == MTASK_FIFO && !core->unbounded ? &core->head : &core->tail;
    if (queue->unbounded)
        return;
    mtask__queue_set_capacity(queue, core->capacity);
    queue->items = (unsigned char *)(core + 1);
    if (core->kind == MTASK_PRIORITY) {
        queue->order = (uint32_t *)(void *)(queue->items + (queue->bytes + 3) / 4 * 4);
        queue->stamps = queue->order + queue->capacity;
    }
}

static mtask_status mtask__queue_init_locks(mtask__queue_core *core) {
    mtask_status status = mtask_shared_mutex_init(&core->tail.robust);
    if (status != MTASK_OK)
        return status;
    status = mtask_shared_mutex_init(&core->head.robust);
    if (status != MTASK_OK)
        (void)mtask_shared_mutex_deinit(&core->tail.robust);
    return status;
}

/* The core, in the storage given or allocated; *block receives what to free. */
static mtask__queue_core *mtask__queue_place(const mtask_queue_desc *desc, void **block) {
    size_t size =
        desc->capacity == MTASK_UNBOUNDED ? MTASK__QUEUE_CORE_SIZE : mtask_queue_storage_size(desc);
    uintptr_t at;
    *block = NULL;
    if (desc->storage != NULL)
        return (mtask__queue_core *)desc->storage;
    *block = MTASK_MALLOC(size + MTASK_QUEUE_ALIGN);
    if (*block == NULL)
        return NULL;
    at = (uintptr_t)*block + MTASK_QUEUE_ALIGN - 1;
    return (mtask__queue_core *)((unsigned char *)*block +
                                 (at / MTASK_QUEUE_ALIGN * MTASK_QUEUE_ALIGN - (uintptr_t)*block));
}

static void mtask__queue_fill(mtask__queue_core *core, const mtask_queue_desc *desc) {
    bool unbounded = desc->capacity == MTASK_UNBOUNDED;
    size_t most = SIZE_MAX >> MTASK__QUEUE_BITS;
    memset(core, 0, sizeof *core);
    core->kind = (uint8_t)desc->kind;
    core->unbounded = unbounded;
    core->shared = (desc->flags & MTASK_SHARED) != 0;
    core->capacity = desc->capacity;
    core->item_size = desc->item_size;
    core->span = unbounded ? most : most / desc->capacity * desc->capacity;
    core->stamp = 1;
}

MTASK_API mtask_status mtask_queue_init(mtask_queue *queue, const mtask_queue_desc *desc) {
    mtask__queue_core *core;
    mtask_status status = MTASK_OK;
    void *block;
    if (queue == NULL)
        return MTASK_INVALID;
    memset(queue, 0, sizeof *queue);
    if (desc == NULL || (status = mtask__queue_check(desc)) != MTASK_OK)
        return desc == NULL ? MTASK_INVALID : status;
    core = mtask__queue_place(desc, &block);
    if (core == NULL)
        return MTASK_NOMEM;
    mtask__store(&core->magic, 0, RELEASE); /* nobody may attach while it is made */
    mtask__queue_fill(core, desc);
    if (core->shared && (status = mtask__queue_init_locks(core)) != MTASK_OK)
        return status;
    mtask__queue_bind(queue, core, desc);
    queue->block = block;
    if (queue->unbounded && !mtask__queue_resize(queue, MTASK__QUEUE_FIRST)) {
        (void)mtask_queue_deinit(queue);
        return MTASK_NOMEM;
    }
    if (queue->unbounded)
        mtask__queue_set_capacity(queue, MTASK__QUEUE_FIRST);
    mtask__queue_clear_slots(queue, 0);
    mtask__store(&core->magic, MTASK__QUEUE_MAGIC, RELEASE); /* pairs with that of attach */
    return MTASK_OK;
}

MTASK_API mtask_status mtask_queue_attach(mtask_queue *queue, const mtask_queue_desc *desc) {
    mtask__queue_core *core;
    mtask_word magic;
    size_t slots;
    if (queue == NULL)
        return MTASK_INVALID;
    memset(queue, 0, sizeof *queue);
    if (desc == NULL || desc->storage == NULL || desc->storage_size < MTASK__QUEUE_CORE_SIZE ||
        (uintptr_t)desc->storage % MTASK_QUEUE_ALIGN != 0)
        return MTASK_INVALID;
    if (!mtask__queue_can_share())
        return MTASK_UNSUPPORTED;
    core = (mtask__queue_core *)desc->storage;
    magic = mtask__load(&core->magic, ACQUIRE); /* pairs with the release of init */
    if (magic == 0)
        return MTASK_NOT_FOUND;
    if (magic != MTASK__QUEUE_MAGIC || core->kind > MTASK_PRIORITY || !core->shared ||
        core->capacity == 0 || core->item_size == 0 ||
        (desc->capacity != 0 && desc->capacity != core->capacity) ||
        (desc->item_size != 0 && desc->item_size != core->item_size) ||
        (core->kind == MTASK_PRIORITY && desc->compare == NULL))
        return MTASK_INVALID;
    slots = mtask__queue_slot_bytes((mtask_queue_kind)core->kind, core->capacity, core->item_size);
    if (slots == 0 || slots > desc->storage_size - MTASK__QUEUE_CORE_SIZE)
        return MTASK_INVALID;
    mtask__queue_bind(queue, core, desc);
    return MTASK_OK;
}

MTASK_API mtask_status mtask_queue_deinit(mtask_queue *queue) {
    mtask__queue_core *core;
    if (!mtask__queue_is_live(queue))
        return MTASK_INVALID;
    core = queue->core;
    if (!queue->shared) {
        if (mtask__load(&core->filled.sleepers, SEQ_CST) != 0 ||
            mtask__load(&core->freed.sleepers, SEQ_CST) != 0 ||
            mtask__load(&core->joiners, SEQ_CST) != 0 ||
            ((mtask__load(&core->filled.word, SEQ_CST) | mtask__load(&core->freed.word, SEQ_CST)) &
             MTASK__GATE_LISTENERS) != 0)
            return MTASK_INVALID;
        if ((mtask__load(&core->filled.word, RELAXED) & MTASK__GATE_WATCHED) != 0)
            mtask__os_notifier_close(core->notifier); /* relaxed: nobody else is here */
        core->magic = 0;
    }
    if (queue->unbounded) {
        mtask__array_free(queue->items);
        mtask__array_free(queue->order);
        mtask__array_free(queue->stamps);
    }
    if (queue->block != NULL)
        MTASK_FREE(queue->block);
    memset(queue, 0, sizeof *queue);
    return MTASK_OK;
}

/* ---- >>linux-notifier: eventfd ---- */

# if defined(__linux__) && !defined(MTASK_PLATFORM_CUSTOM) && !defined(MTASK_FORCE_POSIX) &&       \
     !defined(MTASK_NO_THREADS)
#  include <errno.h>
#  include <sys/eventfd.h>
#  include <unistd.h>

static mtask_status mtask__os_notifier_open(int pair[2]) {
    pair[0] = pair[1] = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    return pair[0] < 0 ? MTASK_SYSTEM : MTASK_OK;
}

static void mtask__os_notifier_set(const int pair[2]) {
    uint64_t one = 1;
    int saved = errno;
    ssize_t written = write(pair[1], &one, sizeof one); /* only a full counter could refuse it */
    (void)written;
    errno = saved;
}

static void mtask__os_notifier_clear(const int pair[2]) {
    uint64_t count;
    int saved = errno;
    ssize_t got = read(pair[0], &count, sizeof count);
    (void)got;
    errno = saved;
}

static void mtask__os_notifier_close(const int pair[2]) {
    close(pair[0]);
}
# endif

/* ---- >>posix-notifier: a pipe ---- */

# if defined(MTASK_FORCE_POSIX) && !defined(MTASK_PLATFORM_CUSTOM) && !defined(MTASK_NO_THREADS)
#  include <errno.h>
#  include <fcntl.h>
#  include <unistd.h>

static mtask_status mtask__os_notifier_open(int pair[2]) {
    if (pipe(pair) != 0)
        return MTASK_SYSTEM;
    for (int i = 0; i < 2; i++) {
        (void)fcntl(pair[i], F_SETFD, FD_CLOEXEC);
        (void)fcntl(pair[i], F_SETFL, O_NONBLOCK);
    }
    return MTASK_OK;
}

static void mtask__os_notifier_set(const int pair[2]) {
    int saved = errno;
    ssize_t written = write(pair[1], "", 1);
    (void)written;
    errno = saved;
}

static void mtask__os_notifier_clear(const int pair[2]) {
    char bytes[8];
    int saved = errno;
    while (read(pair[0], bytes, sizeof bytes) > 0)
        ;
    errno = saved;
}

static void mtask__os_notifier_close(const int pair[2]) {
    close(pair[0]);
    close(pair[1]);
}
# endif

/* ---- >>no-notifier: no descriptors ---- */

# if defined(MTASK_NO_THREADS) && !defined(MTASK_PLATFORM_CUSTOM)
static mtask_status mtask__os_notifier_open(int pair[2]) {
    (void)pair;
    return MTASK_UNSUPPORTED;
}

static void mtask__os_notifier_set(const int pair[2]) {
    (void)pair;
}

static void mtask__os_notifier_clear(const int pair[2]) {
    (void)pair;
}

static void mtask__os_notifier_close(const int pair[2]) {
    (void)pair;
}
# endif

# ifdef __cplusplus
} /* extern "C" */
# endif

#endif /* MTASK_QUEUE_IMPLEMENTATION */
