/* mtask_queue.h 0.2.0 - FIFO, LIFO and priority queues for C

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
             if (numbers_init(&queue, 2) != MTASK_OK || mtask_thread_spawn(squares, &queue) != MTASK_OK)
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

   COSTS
     One atomic read-modify-write for a put and one for a get; for a whole batch no more.
     Memory: capacity x item_size bytes (priority: capacity x (item_size + 8)) and 640 at most.

   CONTENTS: grep for the tag.
     >>queue-type  >>queue  >>select  >>queue-layout
     implementation: >>queue-side  >>queue-gate  >>queue-ring  >>queue-heap  >>queue-robust
     >>queue-array  >>queue-move  >>queue-make  >>queue-listen and some of the same again
     platforms: >>linux-notifier  >>posix-notifier

   OPTIONS (define them before the include, the same in every file)
     MTASK_NO_STB_DS         do without stb_ds.h (Debian: libstb-dev): unbounded queues answer
                             MTASK_UNSUPPORTED, as they do where it is not found
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
                                    MTASK_QUEUE_TYPE fill it in */
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
    size_t capacity; /* slots there are now */
    size_t bytes;    /* capacity x item_size */
    size_t span;     /* positions are counted modulo this */
    mtask_queue_compare compare;
    void *compare_ctx;
    void *block; /* what deinit frees; NULL: the storage is the user's */
    uint8_t kind;
    uint8_t shared;
    uint8_t unbounded;
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
   compare_ctx are this handle's own and must order as the others do. kind and flags are not looked
   at; capacity and item_size must be those of the queue, or 0 for whatever they are.
   MTASK_NOT_FOUND: no queue has been made there yet. MTASK_INVALID: it does not fit the desc, was
   made by another version of mtask, or compare is missing. Does not block. */
MTASK_API mtask_status mtask_queue_attach(mtask_queue *queue, const mtask_queue_desc *desc);

/* How many bytes of storage a queue made by `desc` needs; 0 if it cannot be made in storage. */
MTASK_API size_t mtask_queue_storage_size(const mtask_queue_desc *desc);

/* Ends a queue that nobody uses any more; items in it are dropped (see mtask_queue_discard). Of a
   shared queue only this handle ends; the queue lives as long as the storage. MTASK_INVALID if
   somebody waits on it, or if it was not initialised. Does not block. */
MTASK_API mtask_status mtask_queue_deinit(mtask_queue *queue);

/* Copies the item of item_size bytes at `item` into the queue; waits for room at most `timeout`
   nanoseconds. MTASK_OK. MTASK_FULL: the time was up. MTASK_CLOSED: the queue was closed. MTASK_NOMEM
   (unbounded). MTASK_INVALID (negative timeout, NULL). MTASK_CANCELED (a cancelled coroutine),
   MTASK_DEADLOCK (called on a scheduler's own stack, and it had to wait). MTASK_BROKEN: a shared
   queue whose lock was lost. MTASK_SYSTEM. Unless MTASK_OK, nothing was put. */
MTASK_API mtask_status mtask_queue_put(mtask_queue *queue, const void *item, int64_t timeout);

/* Takes the next item out into the item_size bytes at `item`; waits for one at most `timeout`
   nanoseconds. MTASK_OK. MTASK_EMPTY: the time was up. MTASK_CLOSED: the queue was closed, and
   nothing is left in it. Otherwise as mtask_queue_put; unless MTASK_OK, nothing was taken. */
MTASK_API mtask_status mtask_queue_get(mtask_queue *queue, void *item, int64_t timeout);

/* Puts the `count` items at `items`, in their order, as many at a time as there is room for, waking
   consumers once for each such batch; waits for room at most `timeout` nanoseconds in all. *moved
   (may be NULL) receives how many were put, whatever is returned: all for MTASK_OK, also if `count`
   is 0; otherwise the first *moved. In between, others may put theirs. Returns as mtask_queue_put. */
MTASK_API mtask_status mtask_queue_put_many(mtask_queue *queue, const void *items, size_t count,
                                            size_t *moved, int64_t timeout);

/* Takes up to `count` items out, in order, into `items`: waits like mtask_queue_get until there is
   one, then takes what there is, at one moment. *moved (may be NULL) receives how many: at least 1
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

/* Throws away what is in the queue at this moment: calls fn(item, ctx) for each, in order (fn may
   be NULL; it may free what the item points to; it must not use the queue, which is locked), and
   counts each as done, so that join need not wait for it. *discarded (may be NULL) receives how
   many. With mtask_queue_close before it, this is Python's shutdown(immediate=True). MTASK_OK,
   MTASK_INVALID, MTASK_BROKEN, MTASK_SYSTEM. Does not wait for items. */
MTASK_API mtask_status mtask_queue_discard(mtask_queue *queue, void (*fn)(void *item, void *ctx),
                                           void *ctx, size_t *discarded);

/* A descriptor for poll, epoll, kqueue, libuv or glib to watch for reading: while it is not
   readable the queue is empty and open; when it becomes readable, take items with MTASK_NOWAIT until
   MTASK_EMPTY. It may be readable though others have taken the items, and stays readable after
   close. Do not read, write or close it: it is the queue's and ends with it. The first call makes
   it; until then it costs nothing, from then on each put and get looks at it. *fd receives it.
   MTASK_OK, MTASK_INVALID, MTASK_UNSUPPORTED (a shared queue; a system without), MTASK_SYSTEM (no
   descriptor left: errno). Does not block. */
MTASK_API mtask_status mtask_queue_pollfd(mtask_queue *queue, int *fd);

/* ---- >>select: wait for the first of several puts and gets ---- */

/* What a case of a select does. */
typedef enum mtask_queue_op { MTASK_GET, MTASK_PUT } mtask_queue_op;

/* A case: get an item from `queue` into `item`, or put the one at `item`. A case whose queue is NULL
   never happens. The fields below the line are private and need no initial value. */
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
   nothing happened. Among the cases of a select on shared queues it looks again and again, at
   least every 10 ms, since other processes cannot wake it. */
MTASK_API mtask_status mtask_queue_select(mtask_queue_case *cases, size_t n, size_t *fired,
                                          int64_t timeout);

/* ---- >>queue-layout: what lies in the storage; private ---- */

/* Nothing in here is a pointer as far as a shared queue goes: processes see it at different
   addresses. Each part that is written by itself has a cache line of its own.

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
    size_t offset; /* of the next slot, in bytes; guarded by LOCKED, as is */
    size_t seen;   /* the other side's count when this side last had to look */
    mtask_shared_mutex robust;
} __attribute__((aligned(64))) mtask__queue_side;

typedef struct mtask__queue_gate {
    mtask_word word;
    mtask_word sleepers;        /* how many are asleep, or about to be */
    mtask__listener *listeners; /* guarded by listen_lock */
} __attribute__((aligned(64))) mtask__queue_gate;

typedef struct mtask__queue_core {
    mtask_word magic; /* set last: the queue is ready */
    mtask_word stamp; /* of the next item of a priority queue; guarded by the tail */
    uint32_t kind;
    uint32_t unbounded;
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
    int notifier[2];         /* to read and to write; valid if `freed` is WATCHED */
} __attribute__((aligned(64))) mtask__queue_core;

# define MTASK__QUEUE_CORE_SIZE sizeof(mtask__queue_core)

/* ---- >>queue-type: the same without casts ---- */

/* MTASK_QUEUE_TYPE(jobs, struct job); makes the type `jobs`, a queue of struct job, and these inline
   functions, each as the mtask_queue function of that name:

     mtask_status jobs_init(jobs *queue, size_t capacity);     FIFO
     mtask_status jobs_init_ex(jobs *queue, const mtask_queue_desc *desc);     item_size is filled in
     mtask_status jobs_attach(jobs *queue, const mtask_queue_desc *desc);      as is here
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

   The queue itself, for the functions above, is the member `queue`. */
# define MTASK_QUEUE_TYPE(name, T)                                                                 \
  typedef T                                                                                        \
      name##_item; /* first of all, so that a struct in T is declared for all that follows */      \
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
