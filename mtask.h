/* mtask.h 0.6.0 - threads, locks, conditions, events, barriers, timers and futures for C

   Python's `threading`, and the future of `concurrent.futures`, in one header. Everything that
   blocks, blocks in one place: wait while this 32-bit word holds this value, until a deadline. So
   one mutex, one event, one future serves threads, processes (MTASK_SHARED) and coroutines.

   USE
     Copy this file. In ONE .c (or .cpp) file, before any other include:

         #define MTASK_IMPLEMENTATION
         #include "mtask.h"

     and in the others just `#include "mtask.h"`. Compile with -pthread; nothing else is needed.

   EXAMPLE (cc -O2 -pthread example.c)

         #define MTASK_IMPLEMENTATION
         #include "mtask.h"
         #include <stdio.h>

         static void *answer(void *arg) {
             if (arg == NULL)
                 return mtask_fail(MTASK_INVALID, "no question was asked");
             return arg;
         }

         int main(void) {
             mtask_thread thread = {0};
             mtask_outcome outcome;
             if (mtask_thread_start(&thread, answer, NULL) != MTASK_OK)
                 return 1;
             if (mtask_thread_join(&thread, &outcome, MTASK_SEC(5)) == MTASK_FAILED)
                 printf("it failed: %s\n", outcome.text);
             return 0;
         }

   RULES THAT HOLD EVERYWHERE
     - Every function that can fail returns an mtask_status; results come through out-parameters,
       which may be NULL where the result is not wanted. Nothing prints, nothing aborts.
     - The status speaks of the call; how a task ended is in its mtask_outcome.
     - Time is int64_t nanoseconds of the monotonic clock. A call that may wait ends in a relative
       timeout: MTASK_NOWAIT (0), MTASK_MS(20), MTASK_SEC(1), mtask_until(deadline), or
       MTASK_FOREVER. A negative timeout is MTASK_INVALID. Time up is MTASK_TIMEOUT.
     - A zeroed mutex, rmutex, condition, semaphore (value 0), event, rwlock, once flag or wait
       group is ready for use in one process and needs no deinit. For use between processes, put it
       in shared memory and call its `_init` with MTASK_SHARED, once, before anyone uses it.
     - What is said to block, blocks the calling thread; in a coroutine it parks the coroutine, and
       its thread goes on with the others.
     - Any thread may call any function on any object unless its comment says otherwise. An object
       may be freed by whoever knows that nobody will use it again, also if it was told so by the
       object itself: the locker that finds nobody else interested may unlock and free at once.
     - After fork() the child may go on using mtask: it has one thread, the one that called fork,
       and objects that other threads held or waited for must be initialised again. Handlers of
       pthread_atfork must not call mtask.
     - A program and its plugins may each have a copy of this header. They share threads, timers
       and coroutines if the dynamic linker can see the program's symbols (link it with -rdynamic);
       otherwise each copy keeps house by itself: on Linux, locks, conditions and futures still
       work across for threads (but not rmutexes: both copies number their tasks alike) as long as
       neither copy runs coroutines on a loop. There a plugin that clang compiled must not
       be unloaded: link it with -Wl,-z,nodelete (gcc's stay by themselves).

   CONTENTS: grep for the tag.
     >>config  >>status  >>time  >>words  >>mutex  >>rmutex  >>shared-mutex  >>condition
     >>semaphore  >>event  >>barrier  >>rwlock  >>once  >>waitgroup  >>task  >>future  >>thread
     >>local  >>timer  >>debug  >>guard  >>siblings
     implementation: >>contract  >>state  >>wait  >>park  >>listener  >>fork and the same again
     platforms: >>posix  >>posix-wait  >>linux  >>linux-wait  >>no-threads

   OPTIONS (define them before the include, the same in every file)
     MTASK_STATIC           every function static: mtask in one file only
     MTASK_DEBUG 1          owners, named locks and the dead-lock detector (default: 0)
     MTASK_SPIN             pauses a mutex makes before it sleeps, at most (default: 48; on one CPU
                            none)
     MTASK_MALLOC(size), MTASK_REALLOC(p, size), MTASK_FREE(p)  as the C library's (default)
     MTASK_FORCE_POSIX      do without futex: everything on pthread mutexes and conditions
     MTASK_PLATFORM_CUSTOM  you supply the functions declared under >>contract (an RTOS)
     MTASK_NO_THREADS       one thread, no operating system; bounded queues and coroutines remain.
                            For interrupts see >>no-threads. With MTASK_PLATFORM_CUSTOM it only
                            says that there are no thread-local variables
     MTASK_CLOCK()          without threads: monotonic nanoseconds, an int64_t (default: none, and
                            timeouts answer MTASK_SYSTEM, but for MTASK_NOWAIT and MTASK_FOREVER)
     MTASK_IDLE()           without threads: what a wait does again and again until it ends, such as
                            __WFE() (default: nothing, so that only the clock can end a wait, and
                            one without a limit answers MTASK_DEADLOCK)

   LICENCE: MIT or public domain, at your choice; see the end of this file. */

/* ---- >>config ---- */

#if (defined(MTASK_IMPLEMENTATION) || defined(MTASK_CORO_IMPLEMENTATION)) && !defined(_GNU_SOURCE)
# if (defined(_FEATURES_H) || defined(_SYS_CDEFS_H_)) && !defined(MTASK_NO_THREADS)
#  error                                                                                           \
      "mtask: a system header came before the mtask implementation. Include mtask.h first in the file that defines MTASK_IMPLEMENTATION (best: give it a .c file of its own), or compile that file with -D_GNU_SOURCE."
# endif
# define _GNU_SOURCE 1 /* pthread_setname_np, CPU sets, syscall */
#endif

#ifndef MTASK_H
# define MTASK_H

# include <stdbool.h>
# include <stddef.h>
# include <stdint.h>

# define MTASK_VERSION_MAJOR  0
# define MTASK_VERSION_MINOR  6
# define MTASK_VERSION_PATCH  0
# define MTASK_VERSION_STRING "0.6.0"

# ifndef MTASK_DEBUG
#  define MTASK_DEBUG 0
# endif

# if !defined(__GNUC__)
#  error "mtask: needs gcc or clang (or a compiler with their __atomic builtins and attributes)."
# endif

/* Linkage of what the implementation defines. Hidden by default: a plugin with another version of
   mtask must never be bound to this copy's functions. */
# ifdef MTASK_STATIC
#  define MTASK_API static __attribute__((unused))
# elif !defined(MTASK_API)
#  if defined(__ELF__)
#   define MTASK_API extern __attribute__((visibility("hidden")))
#  else
#   define MTASK_API extern
#  endif
# endif
# define MTASK__INLINE            static inline __attribute__((unused))
# define MTASK__PRINTF(at, first) __attribute__((__format__(__printf__, at, first)))
# define MTASK__LIKELY(x)         __builtin_expect(!!(x), 1)
# define MTASK__UNLIKELY(x)       __builtin_expect(!!(x), 0)
# define MTASK__JOIN_(a, b)       a##b
# define MTASK__JOIN(a, b)        MTASK__JOIN_(a, b)

/* A variable of which each thread has its own. */
# ifdef MTASK_NO_THREADS
#  define MTASK__THREAD_LOCAL
# else
#  define MTASK__THREAD_LOCAL __thread
# endif

/* All atomic accesses of mtask, none wider than a pointer. A model checker may define its own. */
# ifndef mtask__load
#  define mtask__load(p, order)        __atomic_load_n((p), __ATOMIC_##order)
#  define mtask__store(p, v, order)    __atomic_store_n((p), (v), __ATOMIC_##order)
#  define mtask__exchange(p, v, order) __atomic_exchange_n((p), (v), __ATOMIC_##order)
#  define mtask__add(p, v, order)      __atomic_fetch_add((p), (v), __ATOMIC_##order)
#  define mtask__sub(p, v, order)      __atomic_fetch_sub((p), (v), __ATOMIC_##order)
#  define mtask__or(p, v, order)       __atomic_fetch_or((p), (v), __ATOMIC_##order)
#  define mtask__and(p, v, order)      __atomic_fetch_and((p), (v), __ATOMIC_##order)
/* *p becomes `v` if it equals *old; otherwise *old becomes what was there. True if it did. */
#  define mtask__cas(p, old, v, order)                                                             \
   __atomic_compare_exchange_n((p), (old), (v), false, __ATOMIC_##order, __ATOMIC_RELAXED)
# endif

# ifdef __cplusplus
extern "C" {
# endif

/* Every file refers to a symbol whose name holds version and build, so that files that do not fit
   together do not link. The implementation defines it. */
# ifndef MTASK_STATIC
#  if MTASK_DEBUG
#   define MTASK__BUILD mtask_0_6_0_built_with_MTASK_DEBUG_1
#  else
#   define MTASK__BUILD mtask_0_6_0_built_with_MTASK_DEBUG_0
#  endif
MTASK_API const char MTASK__BUILD;
static const char *const mtask__build __attribute__((used)) = &MTASK__BUILD;
# endif

/* ---- >>status ---- */

/* Every status with the text that mtask_strerror gives for it. */
# define MTASK_STATUSES(X)                                                                         \
  X(MTASK_OK, "success")                                                                           \
  X(MTASK_FAILED, "the task failed; its outcome says why")                                         \
  X(MTASK_DONE, "finished: there is nothing more to come")                                         \
  X(MTASK_FULL, "the queue is full")                                                               \
  X(MTASK_EMPTY, "the queue is empty")                                                             \
  X(MTASK_TIMEOUT, "the time was up before it happened")                                           \
  X(MTASK_CLOSED, "it was closed")                                                                 \
  X(MTASK_CANCELED, "it was cancelled")                                                            \
  X(MTASK_BROKEN, "it is broken and must be reset or made anew")                                   \
  X(MTASK_CRASHED, "the process that did it ended by a signal")                                    \
  X(MTASK_OWNER_DEAD, "the lock is yours; its last owner died holding it")                         \
  X(MTASK_NOT_OWNER, "the caller does not hold this lock")                                         \
  X(MTASK_NOT_FOUND, "there is no such thing")                                                     \
  X(MTASK_DEADLOCK, "refused: the call would wait for itself")                                     \
  X(MTASK_OVERFLOW, "a count would leave its range")                                               \
  X(MTASK_INVALID, "an argument, or the state of the object, does not allow this call")            \
  X(MTASK_NOMEM, "out of memory")                                                                  \
  X(MTASK_AUTH, "the other side gave a wrong key")                                                 \
  X(MTASK_UNSUPPORTED, "this system, or this build, does not offer it")                            \
  X(MTASK_SYSTEM, "the operating system refused; errno says why")

typedef enum mtask_status {
# define MTASK__STATUS_ENUM(name, text) name,
    MTASK_STATUSES(MTASK__STATUS_ENUM)
# undef MTASK__STATUS_ENUM
        MTASK_STATUS_COUNT /* how many there are */
} mtask_status;

/* The name of a status, "MTASK_TIMEOUT"; of a number that is none, "MTASK_?". Never NULL. */
MTASK_API const char *mtask_status_name(mtask_status status);

/* What a status means, in a few English words. Never NULL. */
MTASK_API const char *mtask_strerror(mtask_status status);

/* Flags of the `_init` functions and of the word functions, or-ed together. */
enum {
    MTASK_PRIVATE = 0, /* used by the threads and coroutines of one process (default) */
    MTASK_SHARED = 1,  /* used by several processes; the object lies in memory they share. A process
                          killed while it holds a lock keeps it: see mtask_shared_mutex */
    MTASK_CHECKED = 2  /* a mutex that checks its owner: only in MTASK_DEBUG builds (see >>debug) */
};

/* ---- >>time ---- */

# define MTASK_NOWAIT  ((int64_t)0)
# define MTASK_FOREVER INT64_MAX
# define MTASK_US(n)   ((int64_t)(n)*1000)
# define MTASK_MS(n)   ((int64_t)(n)*1000000)
# define MTASK_SEC(n)  ((int64_t)(n)*1000000000)

/* Nanoseconds of the monotonic clock, since some fixed moment of the past; -1 if the system has no
   clock to read (errno says why). Does not block. */
MTASK_API int64_t mtask_now(void);

/* The deadline that lies `timeout` nanoseconds ahead, for mtask_until: MTASK_FOREVER stays
   MTASK_FOREVER, what does not fit becomes it; a negative timeout, or a failing clock, gives -1. */
MTASK_API int64_t mtask_deadline(int64_t timeout);

/* The timeout that ends at `deadline`: 0 if it has passed, MTASK_FOREVER for MTASK_FOREVER. */
MTASK_API int64_t mtask_until(int64_t deadline);

/* Blocks for `duration` nanoseconds, never less. MTASK_OK, MTASK_INVALID (negative), MTASK_CANCELED
   (a cancelled coroutine), MTASK_SYSTEM. */
MTASK_API mtask_status mtask_sleep(int64_t duration);

/* How many CPUs this process may use: its affinity mask, limited by the quota of its cgroups,
   rounded up; at least 1. Reads the system each time. Does not block. */
MTASK_API unsigned mtask_cpu_count(void);

/* ---- >>words: the one place where everything waits ---- */

/* The word that everything waits on. Build your own primitives on these; every access here is
   sequentially consistent. A primitive must loop: a return of MTASK_OK means "look again". */
typedef uint32_t mtask_word;

/* What the word holds. */
MTASK__INLINE mtask_word mtask_word_load(const mtask_word *word) {
    return mtask__load(word, SEQ_CST);
}

/* Stores `value`. */
MTASK__INLINE void mtask_word_store(mtask_word *word, mtask_word value) {
    mtask__store(word, value, SEQ_CST);
}

/* Stores `value` and returns what was there. */
MTASK__INLINE mtask_word mtask_word_exchange(mtask_word *word, mtask_word value) {
    return mtask__exchange(word, value, SEQ_CST);
}

/* Stores `value` if the word holds *expected; otherwise puts what it holds into *expected. Returns
   whether it stored. Never fails spuriously. */
MTASK__INLINE bool mtask_word_cas(mtask_word *word, mtask_word *expected, mtask_word value) {
    return __atomic_compare_exchange_n(word, expected, value, false, __ATOMIC_SEQ_CST,
                                       __ATOMIC_SEQ_CST);
}

/* Adds `n` (wrapping; `(mtask_word)-1` subtracts one) and returns what was there before. */
MTASK__INLINE mtask_word mtask_word_add(mtask_word *word, mtask_word n) {
    return mtask__add(word, n, SEQ_CST);
}

/* Blocks while *word == expected, until woken, for at most `timeout` nanoseconds. `flags`:
   MTASK_PRIVATE or MTASK_SHARED, the same as the waker's. MTASK_OK: woken, or the word differs, or
   for no reason at all; look again. MTASK_TIMEOUT. MTASK_CANCELED (a cancelled coroutine).
   MTASK_DEADLOCK (called on a scheduler's own stack; with MTASK_NO_THREADS: nothing can end it).
   MTASK_INVALID (negative timeout). MTASK_UNSUPPORTED (MTASK_SHARED where there is none).
   MTASK_SYSTEM. A waiter with MTASK_SHARED looks again every 100 ms by itself, because a woken
   process may be killed before it passes the news on; so does a coroutine that another process has
   to wake. */
MTASK_API mtask_status mtask_word_wait(mtask_word *word, mtask_word expected, int64_t timeout,
                                       int flags);

/* Wakes up to `n` of those who wait on `word` (INT_MAX: all), after you changed it. Only the
   address is used: the memory may already be gone. Returns how many it woke. Does not block; not
   async-signal-safe. */
MTASK_API int mtask_word_wake(mtask_word *word, int n, int flags);

/* ---- >>mutex: threading.Lock ---- */

/* A lock of 4 bytes. Any thread may unlock it. It is not fair: whoever comes first gets it, and a
   waiter that has been woken competes with the newcomers.No call on it is a cancellation point
   except mtask_mutex_lock_for with a timeout that ends.

     bit 0   LOCKED   somebody holds it
     bit 1   WAITERS  somebody may be asleep: the unlocker clears it, wakes one, and the woken one
                      sets it again, because there may be more
     bit 30  CHECKED  owner checked in MTASK_DEBUG builds
     bit 31  SHARED   sleepers may be in other processes */
typedef struct mtask_mutex {
    mtask_word word;
} mtask_mutex;

# define MTASK__LOCKED  ((mtask_word)1)
# define MTASK__WAITERS ((mtask_word)2)
# define MTASK__CHECKED ((mtask_word)1 << 30)
# define MTASK__SHARED  ((mtask_word)1 << 31)

/* Makes an unlocked mutex. `flags`: MTASK_PRIVATE, MTASK_SHARED, MTASK_CHECKED. MTASK_INVALID
   (other flags), MTASK_UNSUPPORTED. */
MTASK_API mtask_status mtask_mutex_init(mtask_mutex *mutex, int flags);

MTASK_API mtask_status mtask__mutex_lock_slow(mtask_mutex *mutex, int64_t timeout);
MTASK_API mtask_status mtask__mutex_unlock_slow(mtask_mutex *mutex);

/* Locks; blocks while somebody else, or the caller itself, holds it. MTASK_OK, MTASK_SYSTEM;
   MTASK_DEADLOCK in MTASK_DEBUG builds with MTASK_CHECKED. */
MTASK__INLINE mtask_status mtask_mutex_lock(mtask_mutex *mutex) {
    mtask_word unlocked = 0;
    if (MTASK__LIKELY(mtask__cas(&mutex->word, &unlocked, MTASK__LOCKED, ACQUIRE)))
        return MTASK_OK; /* acquire: pairs with the release in mtask_mutex_unlock */
    return mtask__mutex_lock_slow(mutex, MTASK_FOREVER);
}

/* Locks within `timeout` nanoseconds; MTASK_NOWAIT only tries, MTASK_FOREVER is mtask_mutex_lock.
   Also MTASK_TIMEOUT, MTASK_INVALID (negative), MTASK_CANCELED. */
MTASK__INLINE mtask_status mtask_mutex_lock_for(mtask_mutex *mutex, int64_t timeout) {
    mtask_word unlocked = 0;
    if (MTASK__LIKELY(timeout >= 0 && mtask__cas(&mutex->word, &unlocked, MTASK__LOCKED, ACQUIRE)))
        return MTASK_OK;
    return mtask__mutex_lock_slow(mutex, timeout);
}

/* Unlocks and wakes one waiter, if there is one. Does not block. MTASK_INVALID if it was not
   locked; MTASK_NOT_OWNER in MTASK_DEBUG builds with MTASK_CHECKED. */
MTASK__INLINE mtask_status mtask_mutex_unlock(mtask_mutex *mutex) {
    mtask_word locked = MTASK__LOCKED;
    if (MTASK__LIKELY(mtask__cas(&mutex->word, &locked, 0, RELEASE)))
        return MTASK_OK; /* release: pairs with the acquire of the next locker */
    return mtask__mutex_unlock_slow(mutex);
}

/* Whether somebody holds it at this moment. */
MTASK__INLINE bool mtask_mutex_is_locked(const mtask_mutex *mutex) {
    return (mtask__load(&mutex->word, RELAXED) & MTASK__LOCKED) != 0; /* a hint: pairs with none */
}

/* ---- >>rmutex: threading.RLock ---- */

/* A lock that its owner, a task (thread or coroutine), may take again; it is free when it has been
   unlocked as often. */
typedef struct mtask_rmutex {
    mtask_mutex mutex;
    uint32_t count; /* how often the owner holds it; only the owner touches it */
    union {         /* the number of the owning task; 0: nobody */
        uint64_t whole;
        mtask_word half[2];
    } owner;
} mtask_rmutex;

/* Makes an unlocked one. `flags`: MTASK_PRIVATE or MTASK_SHARED. MTASK_INVALID,
   MTASK_UNSUPPORTED. */
MTASK_API mtask_status mtask_rmutex_init(mtask_rmutex *rmutex, int flags);

/* Locks, or counts up if the caller holds it; blocks while another task holds it. MTASK_OK,
   MTASK_OVERFLOW (held 2^32 - 1 times), MTASK_SYSTEM; MTASK_DEADLOCK in MTASK_DEBUG builds. */
MTASK_API mtask_status mtask_rmutex_lock(mtask_rmutex *rmutex);

/* The same within `timeout` nanoseconds; MTASK_NOWAIT only tries. Also MTASK_TIMEOUT, MTASK_INVALID
   (negative), MTASK_CANCELED. */
MTASK_API mtask_status mtask_rmutex_lock_for(mtask_rmutex *rmutex, int64_t timeout);

/* Counts down; at zero, unlocks. Does not block. MTASK_NOT_OWNER if the caller does not hold it. */
MTASK_API mtask_status mtask_rmutex_unlock(mtask_rmutex *rmutex);

/* Whether somebody holds it at this moment. */
MTASK_API bool mtask_rmutex_is_locked(const mtask_rmutex *rmutex);

/* How often the caller holds it: 0 if another task, or nobody, does. */
MTASK_API uint32_t mtask_rmutex_count(const mtask_rmutex *rmutex);

/* ---- >>shared-mutex: a lock between processes that outlives its owner ---- */

/* A lock in shared memory that survives a killed owner (a robust POSIX mutex). Its owner is a
   thread; waiting in a coroutine polls. */
typedef struct mtask_shared_mutex {
    union {
        uint64_t align;
        unsigned char bytes[64];
    } storage;
} mtask_shared_mutex;

/* Makes an unlocked one, in memory that the processes share. MTASK_NOMEM, MTASK_UNSUPPORTED where
   the system has none, MTASK_SYSTEM. */
MTASK_API mtask_status mtask_shared_mutex_init(mtask_shared_mutex *mutex);

/* Frees what the system holds for it; nobody may hold it or wait for it. MTASK_INVALID if somebody
   does. */
MTASK_API mtask_status mtask_shared_mutex_deinit(mtask_shared_mutex *mutex);

/* Locks; blocks. MTASK_OK. MTASK_OWNER_DEAD: locked, but the last owner died holding it: mend what
   it protects and call mtask_shared_mutex_consistent, or else unlocking makes it MTASK_BROKEN for
   all. MTASK_BROKEN: not locked, and never again. MTASK_DEADLOCK: the caller holds it. */
MTASK_API mtask_status mtask_shared_mutex_lock(mtask_shared_mutex *mutex);

/* The same within `timeout` nanoseconds; MTASK_NOWAIT only tries. Also MTASK_TIMEOUT, MTASK_INVALID
   (negative), MTASK_CANCELED. */
MTASK_API mtask_status mtask_shared_mutex_lock_for(mtask_shared_mutex *mutex, int64_t timeout);

/* Says, after MTASK_OWNER_DEAD, that what the lock protects is whole again. MTASK_INVALID if the
   lock is not in that state. */
MTASK_API mtask_status mtask_shared_mutex_consistent(mtask_shared_mutex *mutex);

/* Unlocks. Does not block. MTASK_NOT_OWNER. */
MTASK_API mtask_status mtask_shared_mutex_unlock(mtask_shared_mutex *mutex);

/* ---- >>condition: threading.Condition ---- */

struct mtask__cond_waiter;

/* A condition variable. In one process notify(n) wakes exactly min(n, waiters), the longest waiting
   first, and nobody wakes for no reason. Between processes (MTASK_SHARED) a wait may return
   MTASK_OK without a notify; so always test the predicate in a loop, or use MTASK_COND_WAIT_FOR. */
typedef struct mtask_cond {
    mtask_mutex lock;                   /* private: guards `waiters`. shared: sequence number */
    mtask_word state;                   /* SHARED flag; shared: number of waiters */
    struct mtask__cond_waiter *waiters; /* private: the last of a ring; its next is the first */
} mtask_cond;

/* Makes one nobody waits on. `flags`: MTASK_PRIVATE or MTASK_SHARED. MTASK_INVALID,
   MTASK_UNSUPPORTED. */
MTASK_API mtask_status mtask_cond_init(mtask_cond *cond, int flags);

/* Unlocks `mutex`, blocks until notified, at most `timeout` nanoseconds, and locks it again, also
   when it returns an error. MTASK_OK: notified. MTASK_TIMEOUT, MTASK_CANCELED. MTASK_INVALID: the
   mutex was not locked, or the timeout is negative; MTASK_NOT_OWNER: (MTASK_DEBUG builds with
   MTASK_CHECKED) not by the caller; then nothing was waited for. MTASK_SYSTEM. */
MTASK_API mtask_status mtask_cond_wait(mtask_cond *cond, mtask_mutex *mutex, int64_t timeout);

/* The same with a recursive mutex, which is let go of at all depths and taken back to the same.
   MTASK_NOT_OWNER: the caller does not hold it. */
MTASK_API mtask_status mtask_cond_wait_rmutex(mtask_cond *cond, mtask_rmutex *rmutex,
                                              int64_t timeout);

/* Wakes up to `n` waiters; does nothing, quickly, if nobody waits. May be called with or without
   the mutex held; with it, no wake-up can fall between a waiter's look at the predicate and its
   wait. Does not block. MTASK_OK, MTASK_INVALID (n < 0). */
MTASK_API mtask_status mtask_cond_notify(mtask_cond *cond, int n);

/* Wakes all waiters. */
MTASK_API mtask_status mtask_cond_notify_all(mtask_cond *cond);

/* Waits until `predicate`, an expression, is true; the mutex must be held. Ends with `status` (an
   mtask_status variable) MTASK_OK when it is true, otherwise with what stopped it: MTASK_TIMEOUT
   only if the predicate is still false when the time is up.

       MTASK_COND_WAIT_FOR(status, &cond, &mutex, MTASK_SEC(1), queue_length > 0);            */
/* clang-format off */
# define MTASK_COND_WAIT_FOR(status, cond, mutex, timeout, predicate)       \
     do {                                                                   \
         const int64_t mtask__timeout = (timeout);                          \
         const int64_t mtask__end = mtask_deadline(mtask__timeout);         \
         (status) = mtask__timeout < 0 ? MTASK_INVALID                      \
                    : mtask__end < 0   ? MTASK_SYSTEM                       \
                                       : MTASK_OK;                          \
         while ((status) == MTASK_OK && !(predicate))                       \
             (status) = mtask_cond_wait((cond), (mutex), mtask_until(mtask__end)); \
         if ((status) == MTASK_TIMEOUT && (predicate))                      \
             (status) = MTASK_OK;                                           \
     } while (0)
/* clang-format on */

/* ---- >>semaphore: threading.Semaphore and BoundedSemaphore ---- */

/* A counter that never falls below zero. 8 bytes.
     word   bits 0-29  value
            bit 30     WAITERS: somebody may be asleep; see mtask__sem_acquire_slow
            bit 31     SHARED
     limit  the largest value allowed; 0 stands for MTASK_SEM_MAX */
typedef struct mtask_sem {
    mtask_word word;
    mtask_word limit;
} mtask_sem;

# define MTASK_SEM_MAX      (((mtask_word)1 << 30) - 1)
# define MTASK__SEM_WAITERS ((mtask_word)1 << 30)

/* Makes a semaphore of `value`, which release never lifts above `limit` (0: MTASK_SEM_MAX; Python's
   BoundedSemaphore(n) is value n, limit n). `flags`: MTASK_PRIVATE or MTASK_SHARED. MTASK_INVALID:
   value negative or above the limit, limit above MTASK_SEM_MAX, other flags. MTASK_UNSUPPORTED. */
MTASK_API mtask_status mtask_sem_init(mtask_sem *sem, int64_t value, int64_t limit, int flags);

MTASK_API mtask_status mtask__sem_acquire_slow(mtask_sem *sem, int64_t timeout);
MTASK_API mtask_status mtask__sem_release_slow(mtask_sem *sem, int64_t n);

/* Takes one; blocks while the value is 0, at most `timeout` nanoseconds (MTASK_NOWAIT only tries).
   MTASK_OK, MTASK_TIMEOUT, MTASK_CANCELED, MTASK_INVALID (negative), MTASK_SYSTEM. */
MTASK__INLINE mtask_status mtask_sem_acquire(mtask_sem *sem, int64_t timeout) {
    mtask_word word = mtask__load(&sem->word, RELAXED); /* a guess that the CAS confirms */
    if (MTASK__LIKELY((word & MTASK_SEM_MAX) != 0 && timeout >= 0 &&
                      mtask__cas(&sem->word, &word, word - 1, ACQUIRE)))
        return MTASK_OK; /* acquire: pairs with the release in mtask_sem_release */
    return mtask__sem_acquire_slow(sem, timeout);
}

/* Gives `n` back and wakes as many waiters. Does not block. MTASK_OK; MTASK_OVERFLOW, and nothing
   is given back, if the value would exceed the limit; MTASK_INVALID (n < 1). */
MTASK__INLINE mtask_status mtask_sem_release(mtask_sem *sem, int64_t n) {
    mtask_word word = mtask__load(&sem->word, RELAXED); /* a guess that the CAS confirms */
    if (MTASK__LIKELY(n == 1 && sem->limit == 0 && word < MTASK_SEM_MAX &&
                      mtask__cas(&sem->word, &word, word + 1, RELEASE)))
        return MTASK_OK; /* release: pairs with the acquire in mtask_sem_acquire */
    return mtask__sem_release_slow(sem, n);
}

/* The value at this moment. */
MTASK__INLINE uint32_t mtask_sem_value(const mtask_sem *sem) {
    return mtask__load(&sem->word, RELAXED) & MTASK_SEM_MAX; /* a hint: pairs with none */
}

/* ---- >>event: threading.Event ---- */

/* A flag to wait for. set releases everybody who waits, even if clear follows at once. 4 bytes.
     bit 0      SET
     bit 1      WAITERS: somebody may be asleep
     bits 2-30  generation: counts the sets that found waiters
     bit 31     SHARED */
typedef struct mtask_event {
    mtask_word word;
} mtask_event;

# define MTASK__EVENT_SET ((mtask_word)1)

/* Makes one that is not set. `flags`: MTASK_PRIVATE or MTASK_SHARED. MTASK_INVALID,
   MTASK_UNSUPPORTED. */
MTASK_API mtask_status mtask_event_init(mtask_event *event, int flags);

MTASK_API void mtask__event_set_slow(mtask_event *event);
MTASK_API mtask_status mtask__event_wait_slow(mtask_event *event, int64_t timeout);

/* Sets it and wakes all who wait. Does not block. */
MTASK__INLINE void mtask_event_set(mtask_event *event) {
    mtask_word word = mtask__load(&event->word, RELAXED); /* a guess that the CAS confirms */
    if (MTASK__UNLIKELY((word & MTASK__WAITERS) != 0 ||
                        !mtask__cas(&event->word, &word, word | MTASK__EVENT_SET, RELEASE)))
        mtask__event_set_slow(event); /* release: pairs with the acquire in mtask_event_wait */
}

/* Clears it: those who wait from now on block. Does not block. */
MTASK__INLINE void mtask_event_clear(mtask_event *event) {
    mtask__and(&event->word, ~MTASK__EVENT_SET, ACQ_REL); /* acquire: pairs with the set that it
                                                             takes back, whose work is seen */
}

/* Whether it is set; if so, what was done before the set is visible. */
MTASK__INLINE bool mtask_event_is_set(const mtask_event *event) {
    return (mtask__load(&event->word, ACQUIRE) & MTASK__EVENT_SET) != 0; /* pairs with set */
}

/* Blocks until it is set, at most `timeout` nanoseconds. MTASK_OK, MTASK_TIMEOUT, MTASK_CANCELED,
   MTASK_INVALID (negative), MTASK_SYSTEM. */
MTASK__INLINE mtask_status mtask_event_wait(mtask_event *event, int64_t timeout) {
    if (MTASK__LIKELY(timeout >= 0 && mtask_event_is_set(event)))
        return MTASK_OK;
    return mtask__event_wait_slow(event, timeout);
}

/* ---- >>task: the one kind of function that everything runs ---- */

/* A task: as a thread, a pool task, a coroutine, a forked child. It returns a value, or what
   mtask_fail gives it. */
typedef void *(*mtask_fn)(void *arg);

# define MTASK_TEXT_SIZE 112 /* bytes of a failure's text, the closing zero included */
# define MTASK_NAME_SIZE 32  /* bytes of a name, the closing zero included; longer ones are cut */

/* How a task ended. A plain value: copy it, drop it. */
typedef struct mtask_outcome {
    mtask_status status;        /* MTASK_OK, or what it failed with, or MTASK_CANCELED */
    void *value;                /* what it returned; NULL unless MTASK_OK */
    char text[MTASK_TEXT_SIZE]; /* why it failed, for people; "" unless mtask_fail gave one */
} mtask_outcome;

/* Fails the running task: `return mtask_fail(status, "cannot open %s", name);`. Keeps the status
   (MTASK_OK becomes MTASK_FAILED) and the text, cut to MTASK_TEXT_SIZE, for whoever joins it, and
   returns a value that stands for failure; other functions may pass it up to the task's return.
   `format` may be NULL. errno is kept. Does not allocate, does not block. */
MTASK_API void *mtask_fail(mtask_status status, const char *format, ...) MTASK__PRINTF(2, 3);

/* Tells what the running task last gave to mtask_fail, or took over from a task that failed and
   that it waited for by mtask_job_sync: fills `outcome` (NULL allowed) and returns its status;
   MTASK_OK if there was nothing yet. Does not block. */
MTASK_API mtask_status mtask_failure(mtask_outcome *outcome);

/* The number of the running task (thread or coroutine): never 0, never used again in this process,
   nor at the same time in another one that sees the same process numbers. */
MTASK_API uint64_t mtask_task_id(void);

/* ---- >>barrier: threading.Barrier ---- */

/* A meeting point of `parties` tasks. A waiter that gives up breaks it for all, until reset. The
   fields are private. */
typedef struct mtask_barrier {
    mtask_mutex lock; /* guards the plain fields */
    mtask_word word;  /* where the parties wait; see the implementation */
    mtask_word now;   /* what the word says, or is about to say */
    uint32_t parties; /* how many must meet */
    uint32_t arrived; /* how many have arrived in this round */
    uint32_t leaving; /* how many have still to leave a broken round */
    mtask_fn action;  /* run by the last to arrive, before the others go on */
    void *arg;        /* for the action */
} mtask_barrier;

/* Makes a barrier for `parties` >= 1 tasks. `action` (NULL: none) is run with `arg` by the last to
   arrive; if it fails, the barrier breaks. `flags`: MTASK_PRIVATE or MTASK_SHARED. MTASK_INVALID,
   MTASK_UNSUPPORTED. */
MTASK_API mtask_status mtask_barrier_init(mtask_barrier *barrier, uint32_t parties, mtask_fn action,
                                          void *arg, int flags);

/* Blocks until all parties have arrived, at most `timeout` nanoseconds. `index` (NULL allowed)
   receives the order of arrival in this round, 0 to parties - 1, each once. MTASK_OK. MTASK_TIMEOUT
   or MTASK_CANCELED: this caller, having arrived, broke the barrier. MTASK_BROKEN: another one did,
   or the action failed, or it was reset or aborted. MTASK_INVALID: negative timeout, or a barrier
   that was never initialised. MTASK_SYSTEM (breaks it, too). */
MTASK_API mtask_status mtask_barrier_wait(mtask_barrier *barrier, uint32_t *index, int64_t timeout);

/* Makes the barrier empty and whole again. Those who wait now get MTASK_BROKEN. Does not block. */
MTASK_API mtask_status mtask_barrier_reset(mtask_barrier *barrier);

/* Breaks the barrier: those who wait, and who come before a reset, get MTASK_BROKEN. Does not
   block. */
MTASK_API mtask_status mtask_barrier_abort(mtask_barrier *barrier);

/* How many tasks the barrier is for. */
MTASK_API uint32_t mtask_barrier_parties(const mtask_barrier *barrier);

/* How many wait in it at this moment; 0 while it is broken. */
MTASK_API uint32_t mtask_barrier_waiting(mtask_barrier *barrier);

/* Whether it is broken. */
MTASK_API bool mtask_barrier_is_broken(const mtask_barrier *barrier);

/* ---- >>rwlock: many readers or one writer ---- */

/* Writers go first: while one waits, no new reader gets in; so a reader must not read-lock it
   again. 4 bytes.
     bits 0-27  number of readers that hold it
     bit 28     WRITE: a writer holds it
     bit 29     WRITERS_WAIT: a writer may be asleep; readers keep out
     bit 30     READERS_WAIT: readers may be asleep
     bit 31     SHARED */
typedef struct mtask_rwlock {
    mtask_word word;
} mtask_rwlock;

# define MTASK__RW_READERS (((mtask_word)1 << 28) - 1)
# define MTASK__RW_WRITE   ((mtask_word)1 << 28)

/* Makes an unlocked one. `flags`: MTASK_PRIVATE or MTASK_SHARED. MTASK_INVALID,
   MTASK_UNSUPPORTED. */
MTASK_API mtask_status mtask_rwlock_init(mtask_rwlock *rwlock, int flags);

MTASK_API mtask_status mtask__rwlock_read_slow(mtask_rwlock *rwlock, int64_t timeout);
MTASK_API mtask_status mtask__rwlock_write_slow(mtask_rwlock *rwlock, int64_t timeout);
MTASK_API mtask_status mtask__rwlock_unread_slow(mtask_rwlock *rwlock);
MTASK_API mtask_status mtask__rwlock_unwrite_slow(mtask_rwlock *rwlock);

/* Locks for reading within `timeout` nanoseconds; MTASK_NOWAIT only tries. Blocks while a writer
   holds it or waits for it. MTASK_OK, MTASK_TIMEOUT, MTASK_CANCELED, MTASK_INVALID (negative),
   MTASK_OVERFLOW (2^28 - 1 readers), MTASK_SYSTEM. */
MTASK__INLINE mtask_status mtask_rwlock_lock_read_for(mtask_rwlock *rwlock, int64_t timeout) {
    mtask_word word = mtask__load(&rwlock->word, RELAXED); /* a guess that the CAS confirms */
    if (MTASK__LIKELY(word < MTASK__RW_READERS && timeout >= 0 &&
                      mtask__cas(&rwlock->word, &word, word + 1, ACQUIRE)))
        return MTASK_OK; /* acquire: pairs with the release of the last writer */
    return mtask__rwlock_read_slow(rwlock, timeout);
}

/* The same, for as long as it takes; no cancellation point. */
MTASK__INLINE mtask_status mtask_rwlock_lock_read(mtask_rwlock *rwlock) {
    return mtask_rwlock_lock_read_for(rwlock, MTASK_FOREVER);
}

/* Gives a read lock back; the last reader wakes a waiting writer. Does not block. MTASK_INVALID if
   no reader holds it. */
MTASK__INLINE mtask_status mtask_rwlock_unlock_read(mtask_rwlock *rwlock) {
    mtask_word word = mtask__load(&rwlock->word, RELAXED); /* a guess that the CAS confirms */
    if (MTASK__LIKELY(word - 1 < MTASK__RW_READERS &&
                      mtask__cas(&rwlock->word, &word, word - 1, RELEASE)))
        return MTASK_OK; /* release: pairs with the acquire of the next writer */
    return mtask__rwlock_unread_slow(rwlock);
}

/* Locks for writing within `timeout` nanoseconds; MTASK_NOWAIT only tries. Blocks while anybody
   holds it. MTASK_OK, MTASK_TIMEOUT, MTASK_CANCELED, MTASK_INVALID (negative), MTASK_SYSTEM. */
MTASK__INLINE mtask_status mtask_rwlock_lock_write_for(mtask_rwlock *rwlock, int64_t timeout) {
    mtask_word unlocked = 0;
    if (MTASK__LIKELY(timeout >= 0 &&
                      mtask__cas(&rwlock->word, &unlocked, MTASK__RW_WRITE, ACQUIRE)))
        return MTASK_OK; /* acquire: pairs with the release of readers and writers */
    return mtask__rwlock_write_slow(rwlock, timeout);
}

/* The same, for as long as it takes; no cancellation point. */
MTASK__INLINE mtask_status mtask_rwlock_lock_write(mtask_rwlock *rwlock) {
    return mtask_rwlock_lock_write_for(rwlock, MTASK_FOREVER);
}

/* Gives the write lock back and wakes one waiting writer or else all waiting readers. Does not
   block. MTASK_INVALID if no writer holds it. */
MTASK__INLINE mtask_status mtask_rwlock_unlock_write(mtask_rwlock *rwlock) {
    mtask_word written = MTASK__RW_WRITE;
    if (MTASK__LIKELY(mtask__cas(&rwlock->word, &written, 0, RELEASE)))
        return MTASK_OK; /* release: pairs with the acquire of the next reader or writer */
    return mtask__rwlock_unwrite_slow(rwlock);
}

/* ---- >>once ---- */

/* Runs something exactly once, however many ask. 4 bytes.
     bit 0   RUNNING
     bit 1   WAITERS: somebody may be asleep
     bit 2   DONE
     bit 31  SHARED */
typedef struct mtask_once_flag {
    mtask_word word;
} mtask_once_flag;

# define MTASK__ONCE_RUNNING ((mtask_word)1)
# define MTASK__ONCE_DONE    ((mtask_word)4)

/* Makes one that has not run. `flags`: MTASK_PRIVATE or MTASK_SHARED. MTASK_INVALID,
   MTASK_UNSUPPORTED. */
MTASK_API mtask_status mtask_once_init(mtask_once_flag *once, int flags);

MTASK_API mtask_status mtask__once_slow(mtask_once_flag *once, mtask_fn fn, void *arg);

/* Runs fn(arg) if nobody has; blocks while another task runs it. MTASK_OK: it has run, and what it
   wrote is visible. MTASK_FAILED: it failed in this call (mtask_fail); the next caller will try
   again. MTASK_SYSTEM. Calling it again from inside `fn` waits for itself, for ever. */
MTASK__INLINE mtask_status mtask_once(mtask_once_flag *once, mtask_fn fn, void *arg) {
    if (MTASK__LIKELY((mtask__load(&once->word, ACQUIRE) & MTASK__ONCE_DONE) != 0))
        return MTASK_OK; /* acquire: pairs with the release in mtask__once_slow */
    return mtask__once_slow(once, fn, arg);
}

/* Whether it has run. */
MTASK__INLINE bool mtask_once_is_done(const mtask_once_flag *once) {
    return (mtask__load(&once->word, ACQUIRE) & MTASK__ONCE_DONE) != 0; /* as in mtask_once */
}

/* ---- >>waitgroup: wait until a number of things are done ---- */

/* A counter to wait for until it is zero; 4 bytes. Count what is about to start, wait for all. Use
   it for the next batch only when everybody has returned from waiting for the last.
     bits 0-29  count
     bit 30     WAITERS: somebody may be asleep
     bit 31     SHARED */
typedef struct mtask_waitgroup {
    mtask_word word;
} mtask_waitgroup;

/* Makes one of count 0. `flags`: MTASK_PRIVATE or MTASK_SHARED. MTASK_INVALID,
   MTASK_UNSUPPORTED. */
MTASK_API mtask_status mtask_waitgroup_init(mtask_waitgroup *group, int flags);

/* Counts `n` more, or less if negative; at zero, wakes all who wait. Does not block.
   MTASK_OVERFLOW, and nothing changes, if the count would fall below 0 or exceed 2^30 - 1. */
MTASK_API mtask_status mtask_waitgroup_add(mtask_waitgroup *group, int64_t n);

/* Counts one less. As mtask_waitgroup_add(group, -1). */
MTASK_API mtask_status mtask_waitgroup_done(mtask_waitgroup *group);

/* Blocks until the count is zero, at most `timeout` nanoseconds. MTASK_OK, MTASK_TIMEOUT,
   MTASK_CANCELED, MTASK_INVALID (negative), MTASK_SYSTEM. */
MTASK_API mtask_status mtask_waitgroup_wait(mtask_waitgroup *group, int64_t timeout);

/* The count at this moment. */
MTASK_API uint32_t mtask_waitgroup_count(const mtask_waitgroup *group);

/* ---- >>future: concurrent.futures.Future ---- */

/* A result that is still to come, whoever makes it. PENDING, then RUNNING, then FINISHED; or, from
   PENDING, CANCELED. Counted: whoever holds a reference may call what stands here; give it back
   with mtask_future_release. */
typedef struct mtask_future mtask_future;

/* Makes a pending future with one reference, the caller's: a promise to be kept by hand.
   `free_value` (NULL: none) frees a value that nobody ever took with mtask_future_get, when the
   last reference goes. MTASK_NOMEM. */
MTASK_API mtask_status mtask_future_create(mtask_future **future, void (*free_value)(void *value));

/* One more reference; returns `future`. */
MTASK_API mtask_future *mtask_future_retain(mtask_future *future);

/* Gives a reference back; the last one frees the future. NULL is allowed. */
MTASK_API void mtask_future_release(mtask_future *future);

/* PENDING becomes RUNNING: for whoever is about to do the work; nobody can cancel it from now on.
   MTASK_OK; MTASK_CANCELED: do not start; MTASK_INVALID: it runs already, is finished, or is the
   result of a loop's task, which begins by itself. */
MTASK_API mtask_status mtask_future_begin(mtask_future *future);

/* Finishes it with a value, wakes all who wait and runs the callbacks, here, in the order in which
   they were added. MTASK_OK. MTASK_CANCELED (it was cancelled) and MTASK_INVALID (it was finished,
   or is the result of a loop's task, which alone ends it): nothing happened, the value stays the
   caller's. */
MTASK_API mtask_status mtask_future_set(mtask_future *future, void *value);

/* Finishes it with a failure, status and text as in mtask_fail; otherwise as mtask_future_set.
   Without memory the text is lost, the status is not. */
MTASK_API mtask_status mtask_future_fail(mtask_future *future, mtask_status status,
                                         const char *format, ...) MTASK__PRINTF(3, 4);

/* Blocks until it is finished or cancelled, at most `timeout` nanoseconds; fills `outcome` (NULL
   allowed). MTASK_OK: it has a value, which is now the caller's concern, not free_value's.
   MTASK_FAILED: outcome->status and text say why. MTASK_CANCELED: it was cancelled, or the calling
   coroutine was. MTASK_TIMEOUT, MTASK_INVALID (negative), MTASK_SYSTEM. Of the future of a pool's
   task also MTASK_DEADLOCK (it would never end; see mtask_pool.h) and MTASK_BROKEN (in the child of
   a process that has forked: it runs in the parent). */
MTASK_API mtask_status mtask_future_get(mtask_future *future, mtask_outcome *outcome,
                                        int64_t timeout);

/* Blocks as mtask_future_get does, but looks at no value. MTASK_OK: it has ended, somehow. */
MTASK_API mtask_status mtask_future_wait(mtask_future *future, int64_t timeout);

/* Whether it has ended: finished or cancelled. */
MTASK_API bool mtask_future_done(const mtask_future *future);

/* Whether it is being worked on. */
MTASK_API bool mtask_future_running(const mtask_future *future);

/* Whether it was cancelled. */
MTASK_API bool mtask_future_canceled(const mtask_future *future);

/* Cancels it if nobody has begun it; wakes all who wait and runs the callbacks. MTASK_OK: it is
   cancelled (also if it was before). MTASK_INVALID: too late, it runs or is finished. */
MTASK_API mtask_status mtask_future_cancel(mtask_future *future);

/* Calls fn(future, ctx) once, when it has ended: in the thread that ends it, or here and now if it
   has. Callbacks run in the order in which they were added before it ended. The future lives while
   they run. MTASK_NOMEM, MTASK_INVALID (no fn). */
MTASK_API mtask_status mtask_future_then(mtask_future *future,
                                         void (*fn)(mtask_future *future, void *ctx), void *ctx);

/* What mtask_futures_wait waits for. */
typedef enum mtask_wait_mode {
    MTASK_WAIT_ALL,          /* all have ended */
    MTASK_WAIT_ANY,          /* at least one has ended */
    MTASK_WAIT_FIRST_FAILURE /* one has failed, or all have ended */
} mtask_wait_mode;

/* Blocks until what `mode` says of the `count` futures is so, at most `timeout` nanoseconds; which
   ones it was, ask mtask_future_done. The same one may stand in the array several times. MTASK_OK
   (at once if count is 0), MTASK_TIMEOUT, MTASK_CANCELED, MTASK_INVALID (negative timeout, NULL in
   the array, no such mode), MTASK_NOMEM (more than 16), MTASK_SYSTEM, MTASK_DEADLOCK and
   MTASK_BROKEN as mtask_future_get. */
MTASK_API mtask_status mtask_futures_wait(mtask_future *const *futures, size_t count,
                                          mtask_wait_mode mode, int64_t timeout);

/* ---- >>thread: threading.Thread ---- */

struct mtask__thread;

/* What there is to know of a thread: a snapshot, a plain value. */
typedef struct mtask_thread_info {
    uint64_t id;                /* as mtask_task_id there; never 0 */
    int64_t native_id;          /* the system's number for it; 0 if it has none yet */
    bool alive;                 /* it has not finished */
    bool daemon;                /* mtask_thread_join_all does not wait for it */
    bool main;                  /* the thread in which main runs */
    bool foreign;               /* not started by mtask, as the main thread; it cannot be joined */
    char name[MTASK_NAME_SIZE]; /* "MainThread", "Thread-1", "Dummy-2" for a foreign one */
} mtask_thread_info;

/* A handle on a thread, in the caller's memory; zero it first. Join it or detach it: either gives
   back all that belongs to the thread. Then it can be started again. Do not copy it. */
typedef struct mtask_thread {
    mtask_mutex lock;            /* guards the rest */
    struct mtask__thread *block; /* NULL: not started, or joined, or detached */
    mtask_thread_info info;      /* the last look at it */
    mtask_status joined;         /* what joining it returned */
    mtask_outcome outcome;       /* how it ended, once joined */
} mtask_thread;

/* How to start a thread. */
typedef struct mtask_thread_desc {
    mtask_fn fn;           /* what it runs (required) */
    void *arg;             /* with what */
    const char *name;      /* copied; the system sees its first 15 bytes (default: "Thread-N") */
    bool daemon;           /* mtask_thread_join_all does not wait for it (default: false) */
    size_t stack_size;     /* bytes, rounded up to what the system allows (default: the system's) */
    const unsigned *cpus;  /* numbers of the CPUs it may run on (default: the creator's) */
    size_t cpu_count;      /* how many of them */
    mtask_future **future; /* receives a reference on its result; cancel works until it runs */
} mtask_thread_desc;

/* Starts a thread that runs fn(arg). Join or detach it. MTASK_INVALID: no fn, or the handle has a
   thread already. MTASK_NOMEM, MTASK_SYSTEM (errno: EAGAIN for too many threads). Does not wait for
   the thread to run. */
MTASK_API mtask_status mtask_thread_start(mtask_thread *thread, mtask_fn fn, void *arg);

/* The same as the description says; `thread` may be NULL: fire and forget. Also MTASK_SYSTEM for
   CPUs that do not exist, MTASK_UNSUPPORTED where there is no affinity. */
MTASK_API mtask_status mtask_thread_start_ex(mtask_thread *thread, const mtask_thread_desc *desc);

/* Starts a thread without a handle: fire and forget. mtask_thread_join_all waits for it. */
MTASK_API mtask_status mtask_thread_spawn(mtask_fn fn, void *arg);

/* Blocks until the thread has ended, at most `timeout` nanoseconds, and fills `outcome` (NULL
   allowed). Several may join, and again: later joins return the same. MTASK_OK; MTASK_FAILED:
   outcome->status and text say why; MTASK_CANCELED: its future was cancelled before it ran, or the
   calling coroutine was. MTASK_TIMEOUT. MTASK_DEADLOCK: it is the calling thread, or, in
   MTASK_DEBUG builds, waits for the caller. MTASK_INVALID: not started, detached, or negative
   timeout. MTASK_SYSTEM. */
MTASK_API mtask_status mtask_thread_join(mtask_thread *thread, mtask_outcome *outcome,
                                         int64_t timeout);

/* Lets the thread go on by itself; its outcome is dropped when it ends. MTASK_INVALID: the handle
   has no thread. */
MTASK_API mtask_status mtask_thread_detach(mtask_thread *thread);

/* Whether it was started and has not finished. */
MTASK_API bool mtask_thread_is_alive(mtask_thread *thread);

/* The number of the handle's thread (as mtask_task_id there); 0 if it was never started. */
MTASK_API uint64_t mtask_thread_id(mtask_thread *thread);

/* The thread's name; it lies in the handle, until the next call with this handle. Not while others
   use the handle. */
MTASK_API const char *mtask_thread_name(mtask_thread *thread);

/* Renames the handle's thread, or the calling one if `thread` is NULL, for mtask and the system.
   MTASK_INVALID: no thread, or no name. */
MTASK_API mtask_status mtask_thread_set_name(mtask_thread *thread, const char *name);

/* The calling thread, whoever started it: `mtask_thread_current().name`. */
MTASK_API mtask_thread_info mtask_thread_current(void);

/* The main thread; of a forked child, the one that called fork. */
MTASK_API mtask_thread_info mtask_thread_main(void);

/* Writes the threads that are alive into `infos`, at most `capacity`; `count` receives how many
   there are. Counted are main, those that mtask started, and those that ever called mtask.
   MTASK_OK; MTASK_OVERFLOW: there were more than fit. */
MTASK_API mtask_status mtask_thread_enumerate(mtask_thread_info *infos, size_t capacity,
                                              size_t *count);

/* How many threads are alive: what mtask_thread_enumerate counts. */
MTASK_API size_t mtask_thread_active_count(void);

/* Fills a zeroed handle for a live thread, as found by mtask_thread_enumerate: join or detach it.
   MTASK_NOT_FOUND: no such thread is alive. MTASK_INVALID: the handle has a thread, or the thread
   is foreign. */
MTASK_API mtask_status mtask_thread_attach(mtask_thread *thread, uint64_t id);

/* Blocks until every thread that is no daemon has ended, and every timer has fired, at most
   `timeout` nanoseconds: what Python does at exit. Call it at the end of main. The caller itself,
   the main thread and foreign threads are not waited for; two threads that both call it wait for
   each other. Handles stay to be joined. MTASK_OK, MTASK_TIMEOUT, MTASK_CANCELED, MTASK_INVALID
   (negative), MTASK_SYSTEM. */
MTASK_API mtask_status mtask_thread_join_all(int64_t timeout);

/* ---- >>local: threading.local ---- */

/* A value of which each thread has its own, NULL at first. */
typedef struct mtask_local {
    mtask_word key; /* the system's key, plus one; 0: not initialised */
} mtask_local;

/* Makes one. `destructor` (NULL: none) frees a thread's value when the thread ends. MTASK_SYSTEM:
   the system has no more keys (errno EAGAIN); MTASK_INVALID: initialised already; MTASK_NOMEM. */
MTASK_API mtask_status mtask_local_init(mtask_local *local, void (*destructor)(void *value));

/* Gives the key back; no thread may use it any more. Values that are left are not destroyed.
   MTASK_INVALID: not initialised. */
MTASK_API mtask_status mtask_local_deinit(mtask_local *local);

/* The calling thread's value; NULL if it has none. */
MTASK_API void *mtask_local_get(const mtask_local *local);

/* Sets the calling thread's value; the old one is the caller's to free. MTASK_NOMEM; MTASK_INVALID:
   not initialised. */
MTASK_API mtask_status mtask_local_set(mtask_local *local, void *value);

/* ---- >>timer: threading.Timer ---- */

/* Runs a function later; zero it first. All timers share one daemon thread, started with the first
   of them, so their functions should be short: a long one delays the others. The fields are
   private. */
typedef struct mtask_timer {
    int64_t deadline;
    mtask_fn fn;
    void *arg;
    struct mtask_timer *child; /* pairing heap: the first child */
    struct mtask_timer *next;  /* its next sibling */
    struct mtask_timer *prev;  /* its previous sibling, or its parent */
    mtask_word pending;        /* 1: it waits to be run */
} mtask_timer;

/* Runs fn(arg) once, after `delay` nanoseconds, in the timer thread; what it returns is dropped.
   The timer must stay where it is until it has fired or is cancelled. It may be started again from
   its own function. MTASK_INVALID: it is pending, no fn, negative delay. MTASK_NOMEM,
   MTASK_SYSTEM. */
MTASK_API mtask_status mtask_timer_start(mtask_timer *timer, int64_t delay, mtask_fn fn, void *arg);

/* Cancels it. MTASK_OK: it had not begun and will not run. MTASK_DONE: it has run, or was never
   started. MTASK_TIMEOUT: it is running, and had not ended within `timeout` nanoseconds (with
   MTASK_NOWAIT: it is running now). After MTASK_OK and MTASK_DONE the timer may be freed.
MTASK_DEADLOCK: called from its own function, and it had not
   started itself again. MTASK_INVALID (negative), MTASK_CANCELED,
   MTASK_SYSTEM. */
MTASK_API mtask_status mtask_timer_cancel(mtask_timer *timer, int64_t timeout);

/* Whether it waits to be run. */
MTASK_API bool mtask_timer_is_pending(const mtask_timer *timer);

/* ---- >>debug: owners, names and the dead-lock detector ---- */

/* With MTASK_DEBUG 1 (in every file of the program: a mixed build does not link) mtask remembers,
   in a table beside the locks, who holds each mutex and rmutex and where it was locked, and who
   waits for which, and looks for a cycle before a wait without a timeout. It sees mutexes, rmutexes
   and joins. A wait for a rmutex, a MTASK_CHECKED mutex or a join that would close a cycle is
   refused: the call returns MTASK_DEADLOCK and nothing was locked. A plain mutex may be unlocked by
   another thread, so there the wait goes on. Both are reported to the hook. In other builds
   mtask_debug_on_deadlock returns MTASK_UNSUPPORTED and mtask_debug_name does nothing. */

/* One task of a cycle: it waits, at file:line, for what the next task of the cycle holds. */
typedef struct mtask_deadlock_edge {
    uint64_t task;                   /* number of the waiting task */
    char thread[MTASK_NAME_SIZE];    /* name of its thread */
    char waits_for[MTASK_NAME_SIZE]; /* name of the lock, or its address; "thread NAME" */
    const char *file;                /* where it waits */
    int line;
    const char *held_file; /* where the next task locked that lock; NULL for a join */
    int held_line;
} mtask_deadlock_edge;

/* A cycle. */
typedef struct mtask_deadlock {
    const mtask_deadlock_edge *edges; /* the first is the caller's */
    size_t count;
    bool refused;     /* the call returns MTASK_DEADLOCK; otherwise it waits now */
    const char *text; /* all of it for people, a line each */
} mtask_deadlock;

/* Has hook(report, ctx) called, in the waiting thread, for each dead-lock found; NULL: nobody. The
   report lives until the hook returns. The hook must not lock what is in it. MTASK_UNSUPPORTED
   without MTASK_DEBUG. */
MTASK_API mtask_status mtask_debug_on_deadlock(void (*hook)(const mtask_deadlock *report,
                                                            void *ctx),
                                               void *ctx);

/* Names a mutex or rmutex in reports; `name` is not copied. MTASK_OK; MTASK_NOMEM. */
MTASK_API mtask_status mtask_debug_name(const void *lock, const char *name);

# if MTASK_DEBUG
MTASK_API mtask_status mtask__mutex_lock_at(mtask_mutex *mutex, int64_t timeout, const char *file,
                                            int line);
MTASK_API mtask_status mtask__mutex_unlock_at(mtask_mutex *mutex);
MTASK_API mtask_status mtask__rmutex_lock_at(mtask_rmutex *rmutex, int64_t timeout,
                                             const char *file, int line);
MTASK_API mtask_status mtask__rmutex_unlock_at(mtask_rmutex *rmutex);
MTASK_API mtask_status mtask__cond_wait_at(mtask_cond *cond, mtask_mutex *mutex, int64_t timeout,
                                           const char *file, int line);
MTASK_API mtask_status mtask__cond_wait_rmutex_at(mtask_cond *cond, mtask_rmutex *rmutex,
                                                  int64_t timeout, const char *file, int line);
MTASK_API mtask_status mtask__thread_join_at(mtask_thread *thread, mtask_outcome *outcome,
                                             int64_t timeout, const char *file, int line);
#  define mtask_mutex_lock(m)         mtask__mutex_lock_at((m), MTASK_FOREVER, __FILE__, __LINE__)
#  define mtask_mutex_lock_for(m, t)  mtask__mutex_lock_at((m), (t), __FILE__, __LINE__)
#  define mtask_mutex_unlock(m)       mtask__mutex_unlock_at(m)
#  define mtask_rmutex_lock(m)        mtask__rmutex_lock_at((m), MTASK_FOREVER, __FILE__, __LINE__)
#  define mtask_rmutex_lock_for(m, t) mtask__rmutex_lock_at((m), (t), __FILE__, __LINE__)
#  define mtask_rmutex_unlock(m)      mtask__rmutex_unlock_at(m)
#  define mtask_cond_wait(c, m, t)    mtask__cond_wait_at((c), (m), (t), __FILE__, __LINE__)
#  define mtask_cond_wait_rmutex(c, m, t)                                                          \
   mtask__cond_wait_rmutex_at((c), (m), (t), __FILE__, __LINE__)
#  define mtask_thread_join(t, o, n) mtask__thread_join_at((t), (o), (n), __FILE__, __LINE__)
# else
#  define mtask__mutex_lock_at(m, t, file, line)                                                   \
   ((void)(file), (void)(line), mtask_mutex_lock_for((m), (t)))
#  define mtask__rmutex_lock_at(m, t, file, line)                                                  \
   ((void)(file), (void)(line), mtask_rmutex_lock_for((m), (t)))
# endif

/* ---- >>guard: locks that are let go of at the end of the scope ---- */

/*  MTASK_GUARD(&lock);               locks; unlocks at the end of the enclosing block, however it
                                      is left: at its end, by return, break, continue, goto
    MTASK_GUARD_READ(&rwlock);        the same, for reading
    MTASK_GUARD_WRITE(&rwlock);       the same, for writing
    MTASK_GUARD_AS(name, &lock);      the same, and `name.status` says whether locking succeeded
    MTASK_WITH(&lock) { ... }         locks, runs the block, unlocks; skips the block if locking
                                      fails; `break` and `continue` leave the block
    MTASK_WITH_READ, MTASK_WITH_WRITE the same for a rwlock
    MTASK_DEFER(fn, arg);             calls fn(arg) at the end of the scope: `void fn(void *)`

   The lock may be a mutex, rmutex, shared mutex or semaphore. If locking fails (MTASK_NOMEM and the
   like are impossible; MTASK_OVERFLOW of a rmutex, MTASK_DEADLOCK in MTASK_DEBUG builds,
   MTASK_BROKEN of a shared mutex are not) nothing is unlocked. A shared mutex whose owner died
   counts as locked for MTASK_GUARD (see `name.status`), while MTASK_WITH skips its block and so
   leaves it broken. longjmp out of the scope does not unlock in C. */
typedef struct mtask_guard {
    void *lock;
    mtask_status status; /* of locking */
    int kind;
    bool entered; /* MTASK_WITH: the block has been run */
} mtask_guard;

enum { /* private: what a guard holds */
       MTASK__GUARD_MUTEX,
       MTASK__GUARD_RMUTEX,
       MTASK__GUARD_SHARED_MUTEX,
       MTASK__GUARD_SEM,
       MTASK__GUARD_READ,
       MTASK__GUARD_WRITE
};

MTASK__INLINE mtask_guard mtask__guard_make(void *lock, mtask_status status, int kind) {
    mtask_guard guard;
    guard.lock = lock;
    guard.status = status;
    guard.kind = kind;
    guard.entered = false;
    return guard;
}

MTASK__INLINE mtask_guard mtask__guard_mutex(mtask_mutex *lock, const char *file, int line) {
    mtask_status status = mtask__mutex_lock_at(lock, MTASK_FOREVER, file, line);
    return mtask__guard_make(lock, status, MTASK__GUARD_MUTEX);
}

MTASK__INLINE mtask_guard mtask__guard_rmutex(mtask_rmutex *lock, const char *file, int line) {
    mtask_status status = mtask__rmutex_lock_at(lock, MTASK_FOREVER, file, line);
    return mtask__guard_make(lock, status, MTASK__GUARD_RMUTEX);
}

MTASK__INLINE mtask_guard mtask__guard_shared_mutex(mtask_shared_mutex *lock, const char *file,
                                                    int line) {
    (void)file;
    (void)line;
    return mtask__guard_make(lock, mtask_shared_mutex_lock(lock), MTASK__GUARD_SHARED_MUTEX);
}

MTASK__INLINE mtask_guard mtask__guard_sem(mtask_sem *lock, const char *file, int line) {
    (void)file;
    (void)line;
    return mtask__guard_make(lock, mtask_sem_acquire(lock, MTASK_FOREVER), MTASK__GUARD_SEM);
}

MTASK__INLINE mtask_guard mtask__guard_read(mtask_rwlock *lock) {
    return mtask__guard_make(lock, mtask_rwlock_lock_read(lock), MTASK__GUARD_READ);
}

MTASK__INLINE mtask_guard mtask__guard_write(mtask_rwlock *lock) {
    return mtask__guard_make(lock, mtask_rwlock_lock_write(lock), MTASK__GUARD_WRITE);
}

MTASK__INLINE void mtask__guard_end(mtask_guard *guard) {
    if (guard->status != MTASK_OK && guard->status != MTASK_OWNER_DEAD)
        return;
    if (guard->kind == MTASK__GUARD_MUTEX)
        (void)mtask_mutex_unlock((mtask_mutex *)guard->lock);
    else if (guard->kind == MTASK__GUARD_RMUTEX)
        (void)mtask_rmutex_unlock((mtask_rmutex *)guard->lock);
    else if (guard->kind == MTASK__GUARD_SHARED_MUTEX)
        (void)mtask_shared_mutex_unlock((mtask_shared_mutex *)guard->lock);
    else if (guard->kind == MTASK__GUARD_SEM)
        (void)mtask_sem_release((mtask_sem *)guard->lock, 1);
    else if (guard->kind == MTASK__GUARD_READ)
        (void)mtask_rwlock_unlock_read((mtask_rwlock *)guard->lock);
    else
        (void)mtask_rwlock_unlock_write((mtask_rwlock *)guard->lock);
}

/* The condition of the loop that MTASK_WITH is: true the first time, if the lock is held. */
MTASK__INLINE bool mtask__guard_enter(mtask_guard *guard) {
    bool first = !guard->entered;
    guard->entered = true;
    return first && guard->status == MTASK_OK;
}

typedef struct mtask__deferred {
    void (*fn)(void *arg);
    void *arg;
} mtask__deferred;

MTASK__INLINE mtask__deferred mtask__defer_make(void (*fn)(void *arg), void *arg) {
    mtask__deferred deferred;
    deferred.fn = fn;
    deferred.arg = arg;
    return deferred;
}

MTASK__INLINE void mtask__defer_end(mtask__deferred *deferred) {
    deferred->fn(deferred->arg);
}

# ifdef __cplusplus
} /* extern "C" */

/* Runs `End` on what it holds at the end of its scope. */
template <typename T, void (*End)(T *)> struct mtask__scoped : T {
    explicit mtask__scoped(const T &held) : T(held) {
    }
    mtask__scoped(const mtask__scoped &) = delete;
    mtask__scoped &operator=(const mtask__scoped &) = delete;
    ~mtask__scoped() {
        End(this);
    }
};

MTASK__INLINE mtask_guard mtask__guard_any(mtask_mutex *lock, const char *file, int line) {
    return mtask__guard_mutex(lock, file, line);
}
MTASK__INLINE mtask_guard mtask__guard_any(mtask_rmutex *lock, const char *file, int line) {
    return mtask__guard_rmutex(lock, file, line);
}
MTASK__INLINE mtask_guard mtask__guard_any(mtask_shared_mutex *lock, const char *file, int line) {
    return mtask__guard_shared_mutex(lock, file, line);
}
MTASK__INLINE mtask_guard mtask__guard_any(mtask_sem *lock, const char *file, int line) {
    return mtask__guard_sem(lock, file, line);
}
#  define MTASK__GUARD_ANY(lock) mtask__guard_any((lock), __FILE__, __LINE__)
#  define MTASK__SCOPED(T, name, end, value)                                                       \
   mtask__scoped<T, end> name {                                                                    \
    value                                                                                          \
   }

extern "C" {
# else
#  define MTASK__GUARD_ANY(lock)                                                                   \
   _Generic((lock), mtask_mutex *                                                                  \
            : mtask__guard_mutex, mtask_rmutex *                                                   \
            : mtask__guard_rmutex, mtask_shared_mutex *                                            \
            : mtask__guard_shared_mutex, mtask_sem *                                               \
            : mtask__guard_sem)((lock), __FILE__, __LINE__)
#  define MTASK__SCOPED(T, name, end, value) __attribute__((cleanup(end), unused)) T name = value
# endif

/* __COUNTER__ makes the hidden names unique, also for several guards in one line. */
# define MTASK__UNIQUE MTASK__JOIN(mtask__hidden_, __COUNTER__)
# define MTASK__WITH_(guard, name)                                                                 \
  for (MTASK__SCOPED(mtask_guard, name, mtask__guard_end, guard); mtask__guard_enter(&name);)
# define MTASK__WITH(guard, name)   MTASK__WITH_(guard, name)
# define MTASK__GUARD(name, guard)  MTASK__SCOPED(mtask_guard, name, mtask__guard_end, guard)
# define MTASK_GUARD_AS(name, lock) MTASK__GUARD(name, MTASK__GUARD_ANY(lock))
# define MTASK_GUARD(lock)          MTASK__GUARD(MTASK__UNIQUE, MTASK__GUARD_ANY(lock))
# define MTASK_GUARD_READ(rwlock)   MTASK__GUARD(MTASK__UNIQUE, mtask__guard_read(rwlock))
# define MTASK_GUARD_WRITE(rwlock)  MTASK__GUARD(MTASK__UNIQUE, mtask__guard_write(rwlock))
# define MTASK_WITH(lock)           MTASK__WITH(MTASK__GUARD_ANY(lock), MTASK__UNIQUE)
# define MTASK_WITH_READ(rwlock)    MTASK__WITH(mtask__guard_read(rwlock), MTASK__UNIQUE)
# define MTASK_WITH_WRITE(rwlock)   MTASK__WITH(mtask__guard_write(rwlock), MTASK__UNIQUE)
# define MTASK_DEFER(fn, arg)                                                                      \
  MTASK__SCOPED(mtask__deferred, MTASK__UNIQUE, mtask__defer_end, mtask__defer_make((fn), (arg)))

/* ---- >>siblings: what the other mtask headers and the tests stand on; not for users ---- */

/* One full fence, then a look at *p. ThreadSanitizer does not know fences: there, a read-modify-
   write of the word that the other side read-modify-writes gives the same order. */
# if defined(__SANITIZE_THREAD__)
#  define MTASK__TSAN 1
# elif defined(__has_feature)
#  if __has_feature(thread_sanitizer)
#   define MTASK__TSAN 1
#  endif
# endif
# ifndef MTASK__TSAN
#  define MTASK__TSAN 0
# endif
# if MTASK__TSAN
#  define mtask__fence_load(p) mtask__add((p), 0, SEQ_CST)
# else
#  define mtask__fence_load(p) (__atomic_thread_fence(__ATOMIC_SEQ_CST), mtask__load((p), RELAXED))
# endif

/* A full fence, between accesses of different words. */
MTASK__INLINE void mtask__fence(void) {
# if MTASK__TSAN
    mtask_word own = 0;
    (void)mtask__add(&own, 0, SEQ_CST);
# else
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
# endif
}

/* What the process has of mtask hangs off a few symbols. A program and its plugins share them if
   the dynamic linker can merge them: they are weak, and with gcc "unique", so that it merges them
   even between plugins loaded RTLD_LOCAL. The names hold version and build, on which layouts
   depend. */
# ifdef MTASK_STATIC
#  define MTASK__ONE      static __attribute__((unused))
#  define MTASK__ONE_HERE static __attribute__((unused))
# else
#  ifdef __clang__
#   define MTASK__KEPT
#  else
#   define MTASK__KEPT externally_visible, /* also where the linker compiles */
#  endif
#  define MTASK__ONE      __attribute__((weak, MTASK__KEPT visibility("default")))
#  define MTASK__ONE_HERE extern __attribute__((visibility("default")))
# endif
# if MTASK_DEBUG
#  define MTASK__VERSIONED(name) name##_0_6_0_debug
# else
#  define MTASK__VERSIONED(name) name##_0_6_0
# endif

/* Has the dynamic linker merge a symbol of these, even between plugins. */
# if defined(__ELF__) && !defined(__clang__) && !defined(MTASK_STATIC) && !defined(MTASK_NO_THREADS)
#  define MTASK__TEXT_(x)  #  x
#  define MTASK__TEXT(x)   MTASK__TEXT_(x)
#  define MTASK__MERGED(x) __asm__(".type " MTASK__TEXT(x) ", %gnu_unique_object");
# else
#  define MTASK__MERGED(x)
# endif

/* What a task returns to say that it failed: an address that is nothing else's. */
# define mtask__failed  MTASK__VERSIONED(mtask__failed)
# define MTASK__FAILURE ((void *)&mtask__failed)
MTASK__ONE_HERE char mtask__failed;

/* The host of the task that runs on this thread, NULL if it has none. */
# define mtask__here MTASK__VERSIONED(mtask__here)
MTASK__ONE_HERE MTASK__THREAD_LOCAL struct mtask__host *mtask__here;

/* Memory, for implementations: they include stdlib.h. */
# ifndef MTASK_MALLOC
#  define MTASK_MALLOC(size)     malloc(size)
#  define MTASK_REALLOC(p, size) realloc((p), (size))
#  define MTASK_FREE(p)          free(p)
# endif

/* Whether any atomic read-modify-write of this CPU is a full fence. */
# if (defined(__i386__) || defined(__x86_64__)) && !MTASK__TSAN
#  define MTASK__RMW_FENCES 1
# else
#  define MTASK__RMW_FENCES 0
# endif

/* Tells the CPU that this is a waiting loop. */
# if defined(__i386__) || defined(__x86_64__)
#  define mtask__pause() __builtin_ia32_pause()
# elif defined(__aarch64__) || defined(__ARM_ARCH_6K__) || (defined(__ARM_ARCH) && __ARM_ARCH >= 7)
#  define mtask__pause() __asm__ volatile("yield" ::: "memory")
# else
#  define mtask__pause() __asm__ volatile("" ::: "memory")
# endif

/* More flags of waiting and waking. A waiter of a class is woken by wakes for that class and by
   those for none; where a system cannot tell classes apart, more are woken than need be. */
enum {
    MTASK__NOPARK = 1 << 8,   /* block the thread, even where a coroutine could be parked */
    MTASK__NOCANCEL = 1 << 9, /* not a cancellation point */
    MTASK__CLASS_1 = 1 << 10,
    MTASK__CLASS_2 = 1 << 11,
    MTASK__AFTER_RMW = 1 << 13, /* the waker has just changed the word by a read-modify-write */
    MTASK__UNLISTED = 1 << 14,  /* not in the parking table: nobody finds it by its word */
    /* nobody wakes it: only time, or cancellation, ends the wait */
    MTASK__ALONE = MTASK__UNLISTED | 1 << 12,
    MTASK__CLASSES = MTASK__CLASS_1 | MTASK__CLASS_2
};

/* A task: what fails, has a number and can be parked. One for each thread, one for each coroutine.
 */
typedef struct mtask__task {
    uint64_t id;
    uint64_t birth;               /* the number it began with: fork changes `id` */
    struct mtask__parker *parker; /* how it waits; NULL: its thread blocks */
    struct mtask__host *host;     /* whose thread it occupies while it waits; NULL: its own */
    mtask_status fail_status;     /* of the last mtask_fail */
    char fail_text[MTASK_TEXT_SIZE];
} mtask__task;

/* A parked task in the parking table. It lies on the stack of the task. */
typedef struct mtask__waiter {
    struct mtask__waiter *next; /* these six are guarded by the lock of the bucket */
    struct mtask__waiter *prev;
    const mtask_word *word;
    mtask_word expected;
    int flags;
    bool queued;
    struct mtask__parker *parker;
} mtask__waiter;

/* How a task waits that is not simply a thread: the hook of an event loop. */
typedef struct mtask__parker {
    /* Suspends the task until post is called for `waiter` (MTASK_OK). To end the wait before, at
       `deadline` (absolute; MTASK_FOREVER), by cancellation (unless MTASK__NOCANCEL is in
       waiter->flags) or by an error, call mtask__unpark(waiter): true: it is out, return
       MTASK_TIMEOUT, MTASK_CANCELED or the error; false: a waker has it, post is sure to come, wait
       for that. NULL: this task must not wait (a scheduler's own stack): MTASK_DEADLOCK. */
    mtask_status (*park)(struct mtask__parker *parker, mtask__waiter *waiter, int64_t deadline);
    /* Keeps the loop alive until the post that follows; NULL: not needed. Called with a bucket
       locked: must not block, allocate, wait or wake. */
    void (*pin)(struct mtask__parker *parker);
    /* Makes the task runnable, from any thread, then unpins. Called once for each waiter that was
       woken; the waiter, and after the unpin the parker, may be gone when it returns. */
    void (*post)(struct mtask__parker *parker, mtask__waiter *waiter);
} mtask__parker;

/* A worker of a pool, as those see it that run on it and are about to wait for other tasks. */
typedef struct mtask__host {
    /* Runs the task of `future` here, if it is one of this pool that nobody has started. Whether it
       did. */
    bool (*help)(struct mtask__host *host, mtask_future *future);
    /* Called before the wait for `future` (NULL: for something else), which is for ever, or not.
       MTASK_OK: wait, then call leave. MTASK_DEADLOCK: it would never end. */
    mtask_status (*enter)(struct mtask__host *host, mtask_future *future, bool forever);
    void (*leave)(struct mtask__host *host);
} mtask__host;

/* Gives a task a number of its own and clears it. */
MTASK_API void mtask__task_init(mtask__task *task, mtask__parker *parker);

/* Gives it a new number, for the next thing that it does. */
MTASK_API void mtask__task_renew(mtask__task *task);

/* The running task; never NULL. */
MTASK_API mtask__task *mtask__task_current(void);

/* Says that `task` runs on this thread from now on (NULL: the thread's own); returns the one that
   did until now. */
MTASK_API mtask__task *mtask__task_switch(mtask__task *task);

/* Runs fn(arg) as (part of) the current task and tells how it ended. */
MTASK_API mtask_status mtask__run(mtask_fn fn, void *arg, mtask_outcome *outcome);

/* mtask_word_wait until an absolute deadline, and with the flags above. */
MTASK_API mtask_status mtask__wait(mtask_word *word, mtask_word expected, int64_t deadline,
                                   int flags);

/* mtask_word_wake with the flags above. */
MTASK_API int mtask__wake(mtask_word *word, int n, int flags);

/* From now on wakes ask the system only where threads of this copy of mtask may be asleep: parked
   tasks are woken without a system call. For whoever parks tasks; there is no way back. */
MTASK_API void mtask__wake_known(void);

/* Takes a waiter out of the parking table. True if it was still in: nobody will post it. */
MTASK_API bool mtask__unpark(mtask__waiter *waiter);

/* Whether a waiter is still in. */
MTASK_API bool mtask__is_parked(const mtask__waiter *waiter);

/* Turns a timeout into a deadline, at the first statement of a call that waits: MTASK_INVALID if it
   is negative, MTASK_SYSTEM. A deadline of 0 has passed long ago, and needs no clock. */
MTASK_API mtask_status mtask__deadline(int64_t timeout, int64_t *deadline);

/* Locks of mtask's own: short, held by threads also in coroutines, seen by no detector. */
MTASK_API void mtask__lock(mtask_mutex *mutex);
MTASK_API void mtask__unlock(mtask_mutex *mutex);

/* Makes `n` pauses before the next look at something that will soon change. False, at once, where
   that does not help: on one CPU, or in a coroutine, whose loop may have other work. */
MTASK_API bool mtask__spin(unsigned n);

/* Lets other threads run. */
MTASK_API void mtask__yield(void);

/* Waits a little for another thread that holds something for a moment, and does not park meanwhile:
   as mtask__backoff, but a task is not parked either. */
MTASK_API void mtask__stall(unsigned *turn);

/* Waits a little for another thread that is in the middle of something short: pauses, then lets
   others run, then sleeps (in a coroutine: parks) for ever longer moments, up to 1 ms. `*turn`
   counts the calls and starts with 0. */
MTASK_API void mtask__backoff(unsigned *turn);

/* A waiter for several objects has one signal, on its stack, and a listener in each object, linked
   under that object's lock. An object that ends counts up the signals of its listeners, under its
   lock: so once the waiter has unlinked a listener, nobody touches its signal through it. */
typedef struct mtask__signal {
    mtask_word fired;  /* how many have; the top bit: there is no need to wait for more */
    mtask_word target; /* how many it takes */
} mtask__signal;

typedef struct mtask__listener {
    struct mtask__listener *next;
    struct mtask__listener *prev;
    mtask__signal *signal;
    void (*fire)(
        struct mtask__listener *listener); /* what to do instead of firing the signal, under
                                                       the object's lock; NULL: nothing special */
    bool linked;
    bool hasty; /* a failure ends the wait */
} mtask__listener;

/* 24 bits that no other living process has: a forked child has others than its parent. */
MTASK_API mtask_word mtask__nonce(void);

/* Calls these around every fork from now on; once, *watched tells. Before anything that they look
   after is used. */
MTASK_API void mtask__at_fork(mtask_word *watched, void (*prepare)(void), void (*parent)(void),
                              void (*child)(void));

/* Around a fork of mtask's own: nobody begins meanwhile to watch forks, whose handlers would miss
   this one. The end: in the parent. */
MTASK_API void mtask__fork_begin(void);
MTASK_API void mtask__fork_end(void);

/* Adds a listener to the front of a list, or takes it out if it is linked. */
MTASK_API void mtask__listener_link(mtask__listener **list, mtask__listener *listener);
MTASK_API void mtask__listener_unlink(mtask__listener **list, mtask__listener *listener);

/* Counts one more, or (`enough`) all there need be; wakes the waiter if it waits for that. */
MTASK_API void mtask__signal_fire(mtask__signal *signal, bool enough);

/* Waits until `target` have fired, at most until `deadline`. MTASK_OK, or as mtask__wait. */
MTASK_API mtask_status mtask__signal_wait(mtask__signal *signal, int64_t deadline);

/* A future's word.
     bits 0-2  state
     bit 3     WAITERS: somebody may be asleep on it
     bit 4     LINKED: callbacks or listeners are linked; the one who ends it must look
     bit 5     TAKEN: a get has handed the value out */
enum {
    MTASK__FUTURE_PENDING = 0,
    MTASK__FUTURE_RUNNING = 1,
    MTASK__FUTURE_SETTING = 2, /* somebody writes the result; FINISHED is this plus one */
    MTASK__FUTURE_FINISHED = 3,
    MTASK__FUTURE_CANCELED = 4,
    MTASK__FUTURE_STATE = 7,
    MTASK__FUTURE_WAITERS = 8,
    MTASK__FUTURE_LINKED = 16,
    MTASK__FUTURE_TAKEN = 32
};

struct mtask_future {
    mtask_word word;
    mtask_word references;
    mtask_mutex lock; /* guards the two lists */
    mtask_status status;
    void *value;
    char *text;                        /* why it failed; allocated, or NULL */
    struct mtask__callback *callbacks; /* first to run first */
    struct mtask__listener *listeners;
    void (*free_value)(void *value);
    const struct mtask__future_kind *kind; /* NULL: one made by mtask_future_create */
};

/* What is peculiar to the futures of threads, pools ... */
typedef struct mtask__future_kind {
    void (*free)(mtask_future *future);           /* frees the memory */
    mtask_status (*cancel)(mtask_future *future); /* takes the task out of where it waits, if it has
                                                     not started, and cancels it; NULL: only that */
    bool (*is_lost)(
        const mtask_future *future); /* a forked child asks: can it never end? NULL: no */
    void (*ended)(
        mtask_future *future); /* called when a LINKED one has, before the callbacks; NULL */
    bool owned;                /* once it runs, only mtask__future_finish_own ends it */
    /* Waits for one that has not ended, where there is a cheaper way than its word: true, and
       *status. NULL: there is none. */
    bool (*await)(mtask_future *future, int64_t deadline, mtask_status *status);
    bool (*runs)(
        const mtask_future *future); /* whether a pending one is being worked on, where only
                                                 another process knows; NULL: it is not */
} mtask__future_kind;

/* Makes a pending future in memory that is there. */
MTASK_API void mtask__future_init(mtask_future *future, mtask_word references);

/* Ends it with an outcome; whoever calls this holds a reference. As mtask_future_set. */
MTASK_API mtask_status mtask__future_finish(mtask_future *future, mtask_status status, void *value,
                                            const char *text);

/* Begins or ends an owned one (see mtask__future_kind), for its task: as mtask_future_begin, and,
   of one that runs, as mtask__future_finish. */
MTASK_API mtask_status mtask__future_begin_own(mtask_future *future);
MTASK_API void mtask__future_finish_own(mtask_future *future, mtask_status status, void *value,
                                        const char *text);

/* The outcome of a future that has ended: as mtask_future_get, but nobody takes the value. */
MTASK_API mtask_status mtask__future_outcome(const mtask_future *future, mtask_outcome *outcome);

/* Cancels it, as mtask_future_cancel where there is nothing more to do; but if it was cancelled
   before: MTASK_CANCELED. */
MTASK_API mtask_status mtask__future_cancel(mtask_future *future);

/* Waits for its end, whatever the host of the task may think. `flags`: 0 or MTASK__NOCANCEL. */
MTASK_API mtask_status mtask__future_sleep(mtask_future *future, int64_t deadline, int flags);

/* Has `listener` told of the end of the future; if it has ended, here and now. And no more. */
MTASK_API void mtask__future_listen(mtask_future *future, mtask__listener *listener);
MTASK_API void mtask__future_unlisten(mtask_future *future, mtask__listener *listener);

# ifdef __cplusplus
} /* extern "C" */
# endif

#endif /* MTASK_H */

/* ================================ implementation ================================ */

#if defined(MTASK_IMPLEMENTATION) && !defined(MTASK_IMPLEMENTED)
# define MTASK_IMPLEMENTED

# include <errno.h>
# include <limits.h>
# include <stdarg.h>
# include <stdio.h>
# include <stdlib.h>
# include <string.h>

# ifndef MTASK_SPIN
#  define MTASK_SPIN 48
# endif

# ifdef __cplusplus
extern "C" {
# endif

/* ---- >>contract: what a platform supplies; everything above the platforms names no system ---- */

/* The platforms below define the types mtask__os_thread, mtask__os_once (with its
   initialiser all zero) and MTASK__HAS_SHARED (whether MTASK_SHARED works), and these functions.
   With MTASK_PLATFORM_CUSTOM you write them, in the file that defines MTASK_IMPLEMENTATION, after
   the include; statuses as said, errno for MTASK_SYSTEM. */

# if defined(MTASK_PLATFORM_CUSTOM)
#  define MTASK__LINUX  0
#  define MTASK__FUTEX  0
#  define MTASK__POSIX  0
#  define MTASK__OS_API extern
#  ifndef MTASK__HAS_SHARED
#   define MTASK__HAS_SHARED 0
#  endif
typedef void *mtask__os_thread;
typedef mtask_word mtask__os_once;
# elif defined(MTASK_NO_THREADS)
#  define MTASK__LINUX      0
#  define MTASK__FUTEX      0
#  define MTASK__POSIX      0
#  define MTASK__HAS_SHARED 0
#  define MTASK__OS_API     static
typedef char mtask__os_thread;
typedef bool mtask__os_once;
# elif defined(__linux__)
#  define MTASK__LINUX 1
#  define MTASK__POSIX 1
#  ifdef MTASK_FORCE_POSIX
#   define MTASK__FUTEX 0
#  else
#   define MTASK__FUTEX 1
#  endif
#  define MTASK__OS_API static
# else
#  error                                                                                           \
      "mtask: this system is not supported yet. Supported: Linux. For others define MTASK_PLATFORM_CUSTOM and supply the functions declared under >>contract, or, for a program of one thread, MTASK_NO_THREADS."
# endif

# if MTASK__POSIX
#  include <pthread.h>
#  include <sched.h>
#  include <time.h>
#  include <unistd.h>
typedef pthread_t mtask__os_thread;
typedef pthread_once_t mtask__os_once;
# endif
# if MTASK__FUTEX
#  define MTASK__HAS_SHARED 1
# elif MTASK__POSIX
#  define MTASK__HAS_SHARED 0
# endif

struct mtask__thread;

/* What a new thread has to call, once. */
MTASK_API void mtask__thread_entry(struct mtask__thread *block);

/* Monotonic nanoseconds, or -1. */
MTASK__OS_API int64_t mtask__os_now(void);
/* Lets another thread run. */
MTASK__OS_API void mtask__os_yield(void);
/* Blocks the thread while *word == expected, until `deadline`. MTASK_OK (also for no reason),
   MTASK_TIMEOUT, MTASK_SYSTEM, MTASK_DEADLOCK (nothing can end it). Keeps errno unless
   MTASK_SYSTEM. */
MTASK__OS_API mtask_status mtask__os_wait(mtask_word *word, mtask_word expected, int64_t deadline,
                                          int flags);
/* Wakes up to `n` threads blocked there; returns how many. Threads that block by mtask__park are
   woken by the parking table instead, and this returns 0. Keeps errno. */
MTASK__OS_API int mtask__os_wake(mtask_word *word, int n, int flags);
/* Runs fn exactly once for `once`. */
MTASK__OS_API void mtask__os_call_once(mtask__os_once *once, void (*fn)(void));
/* CPUs that this process may use, at least 1. */
MTASK__OS_API unsigned mtask__os_cpu_count(void);
/* Whether the machine runs several threads at once. */
MTASK__OS_API bool mtask__os_is_parallel(void);
/* Starts a thread that calls mtask__thread_entry(block). MTASK_NOMEM, MTASK_SYSTEM,
   MTASK_UNSUPPORTED. */
MTASK__OS_API mtask_status mtask__os_thread_start(struct mtask__thread *block,
                                                  const mtask_thread_desc *desc, bool detached);
/* The calling thread; its number in the system; whether main runs in it. */
MTASK__OS_API mtask__os_thread mtask__os_thread_self(void);
MTASK__OS_API int64_t mtask__os_thread_native_id(void);
MTASK__OS_API bool mtask__os_thread_is_main(void);
/* Waits for the end of a thread that is ending; or lets it go. */
MTASK__OS_API void mtask__os_thread_join(mtask__os_thread thread);
MTASK__OS_API void mtask__os_thread_detach(mtask__os_thread thread);
/* Shows the name of a live thread to the system, as far as it can. */
MTASK__OS_API void mtask__os_thread_rename(mtask__os_thread thread, const char *name);
/* Per-thread values: the key, plus one, goes to *key. MTASK_NOMEM, MTASK_SYSTEM. */
MTASK__OS_API mtask_status mtask__os_key_create(mtask_word *key, void (*destructor)(void *value));
MTASK__OS_API void mtask__os_key_delete(mtask_word key);
MTASK__OS_API void *mtask__os_key_get(mtask_word key);
MTASK__OS_API mtask_status mtask__os_key_set(mtask_word key, void *value);
/* 24 bits that no other living process has. */
MTASK__OS_API uint32_t mtask__os_nonce(void);
/* Calls these around every fork from now on; nothing where there is no fork. */
MTASK__OS_API void mtask__os_at_fork(void (*prepare)(void), void (*parent)(void),
                                     void (*child)(void));
/* The robust lock: see the public functions. `timeout` is not negative. */
MTASK__OS_API mtask_status mtask__os_robust_init(mtask_shared_mutex *mutex);
MTASK__OS_API mtask_status mtask__os_robust_deinit(mtask_shared_mutex *mutex);
MTASK__OS_API mtask_status mtask__os_robust_lock(mtask_shared_mutex *mutex, int64_t deadline);
MTASK__OS_API mtask_status mtask__os_robust_consistent(mtask_shared_mutex *mutex);
MTASK__OS_API mtask_status mtask__os_robust_unlock(mtask_shared_mutex *mutex);

/* ---- >>state: all that the process has of mtask, behind one symbol ---- */

# define mtask__state        MTASK__VERSIONED(mtask__state)
# define mtask__self         MTASK__VERSIONED(mtask__self)
# define mtask__process_init MTASK__VERSIONED(mtask__process_init)

/* What becomes of the system's thread: bits of mtask__thread.reap. */
enum {
    MTASK__REAP_ARRIVED = 1, /* it runs: its handle is known */
    MTASK__REAP_LEFT = 2,    /* it is about to end: joining it takes no time */
    MTASK__REAP_CLAIMED = 4, /* somebody joins it, or lets go of it, now */
    MTASK__REAP_GONE = 8,    /* that has been done, or it was detached from the start */
    MTASK__REAP_SELF = 16,   /* it was detached before it arrived, and will let go of itself */
    MTASK__REAP_WAITERS = 32 /* somebody may be asleep until it has left, or is gone */
};

typedef struct mtask__thread {
    mtask_future future;        /* its result; the references to it keep the block */
    struct mtask__thread *next; /* ring of the threads that are alive, guarded by state.lock, */
    struct mtask__thread *prev; /* as is info */
    mtask_thread_info info;
    mtask_fn fn;
    void *arg;
    mtask__os_thread handle; /* set by the thread itself, before ARRIVED */
    mtask_word reap;
    bool counted; /* in state.alive */
} mtask__thread;

/* What a thread has of its own. */
typedef struct mtask__thread_self {
    mtask__task *task;     /* what runs now; NULL: this thread has not been seen yet */
    mtask__thread *thread; /* its block */
    mtask__task own;       /* the thread as a task */
    mtask__thread foreign; /* its block, if mtask did not start it */
    uint64_t next_serial;  /* numbers set aside for its tasks */
    uint64_t last_serial;
    unsigned spin;  /* how long it had to spin lately: see mtask__spin_limit */
    bool exit_seen; /* its destructors have begun to run, or will not */
    bool left;      /* it has said farewell */
} mtask__thread_self;

# ifdef MTASK_NO_THREADS
#  define MTASK__BUCKETS 1 /* memory is dear, and there is no crowd */
# else
#  define MTASK__BUCKETS 4096 /* for crowds of parked tasks; what is not used takes no memory */
# endif

typedef struct mtask__bucket {
    mtask_word word;   /* bit 0: locked; the rest: how many are in the list, or about to enter */
    mtask_word asleep; /* how many threads sleep, or are about to, on words of this bucket */
    mtask_word turn;   /* counts wakes, for fairness between threads and parked tasks */
    mtask__waiter *first;
    mtask__waiter *last;
} mtask__bucket;

typedef struct mtask__process {
    mtask__os_once once;
    mtask_word ready;      /* 1: everything below has been initialised */
    mtask_word parked;     /* 1: the buckets have been used */
    mtask_word known;      /* 1: no thread sleeps without being counted in a bucket */
    mtask_word spin;       /* most turns to spin: MTASK_SPIN, or 0 on one CPU */
    mtask_word nonce;      /* 24 bits: the upper part of task numbers */
    mtask_word chunks;     /* of 256 task numbers, handed out so far */
    mtask_word names;      /* threads named so far */
    mtask_word exit_key;   /* per-thread key whose destructor tells the end of a thread; 0: none */
    mtask_word alive;      /* threads that are no daemons, and timers: what join_all waits for */
    mtask_word joiners;    /* how many wait for that */
    mtask_mutex lock;      /* guards the ring of threads */
    mtask_mutex fork_lock; /* held while handlers of forks are registered */
    mtask__thread *threads;
    mtask__thread *main;
    mtask__thread main_block;
    mtask_mutex timer_lock; /* guards the four that follow */
    mtask_timer *timers;    /* pairing heap, earliest first */
    mtask_timer *running;
    uint64_t timer_task;     /* the timer thread's number; 0: not started */
    mtask_word timer_signal; /* bumped when the timer thread must look again */
    mtask_word timer_runs;   /* bumped when a timer function has returned */
    mtask__bucket buckets[MTASK__BUCKETS];
# if MTASK_DEBUG
    mtask_mutex debug_lock; /* guards the three that follow */
    struct mtask__owned *owned;
    struct mtask__blocked *blocked;
    void (*deadlock_hook)(const mtask_deadlock *report, void *ctx);
    void *deadlock_ctx;
# endif
} mtask__process;

MTASK__ONE mtask__process mtask__state;
MTASK__ONE MTASK__THREAD_LOCAL mtask__thread_self mtask__self;
# ifndef MTASK_STATIC
MTASK__ONE char mtask__failed;
MTASK__ONE MTASK__THREAD_LOCAL mtask__host *mtask__here;
# endif
MTASK__MERGED(mtask__state)
MTASK__MERGED(mtask__self)
MTASK__MERGED(mtask__failed)
MTASK__MERGED(mtask__here)
# ifndef MTASK_STATIC
const char MTASK__BUILD = 1; /* what every file that includes mtask.h refers to */
# endif

MTASK__ONE void mtask__process_init(void);
static void mtask__thread_enter(mtask__thread_self *self);
static void mtask__thread_exit(void *self);
static void mtask__ring_add(mtask__thread *block);
static void mtask__fork_prepare(void);
static void mtask__fork_parent(void);
static void mtask__fork_child(void);
static void mtask__debug_fork_prepare(void);
static void mtask__debug_fork_parent(void);
static void mtask__debug_fork_child(uint64_t parents, uint64_t id);

static uint64_t mtask__next_id(mtask__thread_self *self) {
    if (self->next_serial == self->last_serial) {
        mtask_word chunk =
            mtask__add(&mtask__state.chunks, 1, RELAXED); /* only the count matters */
        self->next_serial = (uint64_t)chunk << 8;
        self->last_serial = self->next_serial + 255;
    }
    return (uint64_t)mtask__state.nonce << 40 | ++self->next_serial;
}

/* Of a task's number, what is unique within the process and survives fork. */
# define MTASK__SERIAL (((uint64_t)1 << 40) - 1)

/* Shared, like the state: the functions that it registers must be of the copy that owns the state,
   which is there to stay, and not of a plugin that may be unloaded. */
MTASK__ONE void mtask__process_init(void) {
    mtask__process *state = &mtask__state;
    mtask__thread *block = &state->main_block;
    int saved = errno;
    state->lock.word = 0; /* a process that was forked in the middle of this begins anew */
    state->threads = NULL;
    state->nonce = mtask__os_nonce(); /* and serials differ between processes and copies, too */
    state->chunks = (state->nonce ^ (mtask_word)((uintptr_t)state >> 4)) * 0x9e3779b1u;
    state->spin = mtask__os_is_parallel() ? MTASK_SPIN : 0;
    if (mtask__os_key_create(&state->exit_key, mtask__thread_exit) != MTASK_OK)
        state->exit_key = 0; /* then threads of others are known by number, but not listed */
    block->info.main = true;
    block->info.alive = true;
    block->info.foreign = true;
    memcpy(block->info.name, "MainThread", sizeof "MainThread");
    block->info.id = mtask__next_id(&mtask__self);
    mtask__ring_add(block);
    state->main = block;
    mtask__os_at_fork(mtask__fork_prepare, mtask__fork_parent, mtask__fork_child);
    errno = saved;
    mtask__store(&state->ready, 1, RELEASE); /* pairs with the acquire in mtask__me */
}

/* What the calling thread has of its own. Not inlined: the address of a thread-local must not be
   remembered across a switch of coroutines. */
static __attribute__((noinline)) mtask__thread_self *mtask__me(void) {
    if (MTASK__UNLIKELY(mtask__self.task == NULL)) {
        if (mtask__load(&mtask__state.ready, ACQUIRE) == 0)
            mtask__os_call_once(&mtask__state.once, mtask__process_init);
        mtask__thread_enter(&mtask__self);
    }
    return &mtask__self;
}

/* ---- >>status ---- */

MTASK_API const char *mtask_status_name(mtask_status status) {
    static const char *const names[] = {
# define MTASK__STATUS_NAME(name, text) # name,
        MTASK_STATUSES(MTASK__STATUS_NAME)
# undef MTASK__STATUS_NAME
    };
    unsigned index = (unsigned)status;
    return index < MTASK_STATUS_COUNT ? names[index] : "MTASK_?";
}

MTASK_API const char *mtask_strerror(mtask_status status) {
    static const char *const texts[] = {
# define MTASK__STATUS_TEXT(name, text) text,
        MTASK_STATUSES(MTASK__STATUS_TEXT)
# undef MTASK__STATUS_TEXT
    };
    unsigned index = (unsigned)status;
    return index < MTASK_STATUS_COUNT ? texts[index] : "not a status of mtask";
}

/* Whether an `_init` was given flags it knows. */
static mtask_status mtask__check_flags(int flags, int known) {
    if ((flags & ~known) != 0)
        return MTASK_INVALID;
    return (flags & MTASK_SHARED) != 0 && !MTASK__HAS_SHARED ? MTASK_UNSUPPORTED : MTASK_OK;
}

/* The first word of an object, from the flags of its `_init`. */
static mtask_status mtask__init_word(mtask_word *word, int flags) {
    mtask_status status = mtask__check_flags(flags, MTASK_SHARED);
    if (status == MTASK_OK)
        mtask__store(word, (flags & MTASK_SHARED) != 0 ? MTASK__SHARED : 0, RELAXED); /* not shared
                                                                          yet: pairs with none */
    return status;
}

/* The wait flags of an object whose word holds `word`. */
static int mtask__flags_of(mtask_word word) {
    return (word & MTASK__SHARED) != 0 ? MTASK_SHARED : MTASK_PRIVATE;
}

/* ---- >>time ---- */

MTASK_API int64_t mtask_now(void) {
    return mtask__os_now();
}

MTASK_API mtask_status mtask__deadline(int64_t timeout, int64_t *deadline) {
    int64_t now;
    *deadline = timeout;
    if (timeout < 0)
        return MTASK_INVALID;
    if (timeout == MTASK_NOWAIT || timeout == MTASK_FOREVER)
        return MTASK_OK;
    now = mtask__os_now();
    if (now < 0)
        return MTASK_SYSTEM;
    *deadline = timeout > INT64_MAX - now ? MTASK_FOREVER : now + timeout;
    return MTASK_OK;
}

MTASK_API int64_t mtask_deadline(int64_t timeout) {
    int64_t deadline;
    if (timeout == MTASK_NOWAIT)
        return mtask_now();
    return mtask__deadline(timeout, &deadline) == MTASK_OK ? deadline : -1;
}

MTASK_API int64_t mtask_until(int64_t deadline) {
    int64_t now;
    if (deadline == MTASK_FOREVER)
        return MTASK_FOREVER;
    now = mtask_now();
    return deadline > now && now >= 0 ? deadline - now : 0;
}

MTASK_API mtask_status mtask_sleep(int64_t duration) {
    mtask_word never = 0;
    int64_t deadline;
    mtask_status status = mtask__deadline(duration, &deadline);
    while (status == MTASK_OK)
        status = mtask__wait(&never, 0, deadline, MTASK__ALONE);
    return status == MTASK_TIMEOUT ? MTASK_OK : status;
}

MTASK_API unsigned mtask_cpu_count(void) {
    return mtask__os_cpu_count();
}

/* ---- >>wait: the one place ---- */

/* A waiter of MTASK_SHARED looks again after this long: whoever was woken in its place may have
   been killed before it could pass the wake-up on. */
# define MTASK__RECHECK MTASK_MS(100)

static mtask__bucket *mtask__bucket_of(const mtask_word *word);
static mtask_status mtask__park(mtask__parker *parker, mtask_word *word, mtask_word expected,
                                int64_t deadline, int flags);

/* Blocks the thread. Why a wake that looks at the count first is not lost: as in mtask__park. */
static mtask_status mtask__sleep(mtask_word *word, mtask_word expected, int64_t deadline,
                                 int flags) {
    mtask__bucket *bucket = mtask__bucket_of(word);
    mtask_status status;
    mtask__add(&bucket->asleep, 1, SEQ_CST); /* pairs with the fence in mtask__wake */
    status = mtask__os_wait(word, expected, deadline, flags);
    mtask__sub(&bucket->asleep, 1, RELAXED); /* wakers who see it too high only look in vain */
    return status;
}

MTASK_API mtask_status mtask__wait(mtask_word *word, mtask_word expected, int64_t deadline,
                                   int flags) {
    int64_t end = deadline;
    mtask_status status;
    mtask__parker *parker = mtask__me()->task->parker;
    if ((flags & MTASK_SHARED) != 0) {
        int64_t recheck = mtask__os_now() + MTASK__RECHECK;
        if (!MTASK__HAS_SHARED)
            return MTASK_UNSUPPORTED;
        end = deadline < recheck ? deadline : recheck;
    }
    if (parker != NULL && (flags & MTASK__NOPARK) == 0 && parker->park == NULL)
        return MTASK_DEADLOCK;
    if (parker != NULL && (flags & MTASK__NOPARK) == 0)
        status = mtask__park(parker, word, expected, end, flags);
    else
        status = mtask__sleep(word, expected, end, flags);
    return status == MTASK_TIMEOUT && end != deadline ? MTASK_OK : status;
}

MTASK_API mtask_status mtask_word_wait(mtask_word *word, mtask_word expected, int64_t timeout,
                                       int flags) {
    int64_t deadline;
    mtask_status status = mtask__deadline(timeout, &deadline);
    if (status != MTASK_OK)
        return status;
    return mtask__wait(word, expected, deadline, flags & MTASK_SHARED);
}

MTASK_API int mtask_word_wake(mtask_word *word, int n, int flags) {
    return mtask__wake(word, n, flags & MTASK_SHARED);
}

/* How many turns a lock spins at most before it sleeps: about twice what was enough lately, in the
   manner of glibc's adaptive mutex. */
static unsigned mtask__spin_limit(const mtask__thread_self *self) {
    unsigned limit = 2 * self->spin + 10;
    unsigned most = mtask__load(&mtask__state.spin, RELAXED); /* constant once set */
    return limit < most ? limit : most;
}

static void mtask__spin_learn(mtask__thread_self *self, bool paid, unsigned turns) {
    self->spin = (7 * self->spin + (paid ? turns : 0)) / 8;
}

/* The sleep of every primitive whose word says by a flag that somebody may be asleep. Sets `flag`
   in `*at`, where `word` was seen, and sleeps until woken. False: it did not sleep, because the
   word has changed or there is no time; look again. *status receives what ended the sleep.

   Why no wake-up is lost, here and in all that use it: the flag is set before the sleep, and one
   sleeps only while the word still is what it was then; and whoever changes the word to something
   that a sleeper waits for does it by one read-modify-write, sees the flag, and wakes. After that
   it touches nothing but the address. */
static bool mtask__sleep_on(mtask_word *at, mtask_word word, mtask_word flag, int64_t deadline,
                            int flags, mtask_status *status) {
    mtask_word flagged = word | flag;
    if (deadline == 0) {
        *status = MTASK_TIMEOUT;
        return false;
    }
    if (word != flagged && !mtask__cas(at, &word, flagged, RELAXED))
        return false; /* relaxed: it publishes nothing, and the sleep re-reads the word */
    *status = mtask__wait(at, flagged, deadline, flags | mtask__flags_of(flagged));
    return true;
}

static void mtask__pauses(unsigned n) {
    for (unsigned i = 0; i < n; i++)
        mtask__pause();
}

MTASK_API void mtask__yield(void) {
    mtask__os_yield();
}

MTASK_API bool mtask__spin(unsigned n) {
    if (mtask__me()->task->parker != NULL || mtask__load(&mtask__state.spin, RELAXED) == 0)
        return false; /* relaxed: mtask__me has seen to it that it is set */
    mtask__pauses(n);
    return true;
}

MTASK_API void mtask__backoff(unsigned *turn) {
    const mtask__parker *parker = mtask__me()->task->parker;
    bool parallel = mtask__load(&mtask__state.spin, RELAXED) != 0; /* constant once set */
    unsigned now = (*turn)++;
    if (now < 6 && parallel) {
        mtask__pauses(1U << now);
    } else if (now < 16 || (parker != NULL && parker->park == NULL)) {
        mtask__os_yield();
    } else {
        mtask_word never = 0;
        int64_t nap = MTASK_US(50) << (now < 20 ? now / 4 : 4);
        mtask__wait(&never, 0, mtask__os_now() + nap, MTASK__NOCANCEL | MTASK__ALONE);
    }
}

MTASK_API void mtask__stall(unsigned *turn) {
    if (mtask__me()->task->parker == NULL)
        mtask__backoff(turn);
    else if (mtask__load(&mtask__state.spin, RELAXED) != 0 && (*turn)++ < 64)
        mtask__pauses(16);
    else
        mtask__os_yield();
}

/* ---- >>park: tasks that wait without their thread, keyed by address ---- */

/* Why no wake-up is lost. A parker counts itself into the bucket as it locks it, and then looks at
   the word once more before it enters the list. A waker changes the word, and then, with a full
   fence between, looks at the count. Of the two looks at least one sees what the other side did: so
   either the parker finds the word changed, or the waker finds the count raised, takes the lock,
   and finds the waiter in the list, or knows that it has not looked at the word yet. */

static mtask__bucket *mtask__bucket_of(const mtask_word *word) {
    uint64_t hash = (uint64_t)((uintptr_t)word >> 2) * UINT64_C(0x9e3779b97f4a7c15);
    return &mtask__state.buckets[(hash >> 48) % MTASK__BUCKETS];
}

# define MTASK__BUCKET_LOCKED 1
# define MTASK__BUCKET_ONE    2

/* Waits a moment for a holder of a bucket's lock, who does not block, but may have been preempted. */
static void mtask__bucket_pause(unsigned turn) {
    mtask_word never = 0;
    if (turn < 6 && mtask__load(&mtask__state.spin, RELAXED) != 0)
        mtask__pauses(1U << turn);
    else if (turn < 64)
        mtask__os_yield();
    else
        (void)mtask__os_wait(&never, 0, mtask__os_now() + MTASK_US(50), MTASK__ALONE);
}

/* Locks; and counts `more` waiters in, by the same read-modify-write. */
static void mtask__bucket_lock(mtask__bucket *bucket, mtask_word more) {
    mtask_word word = mtask__load(&bucket->word, RELAXED); /* a guess that the CAS confirms */
    for (unsigned turn = 0;;) {
        if ((word & MTASK__BUCKET_LOCKED) != 0) {
            mtask__bucket_pause(turn++);
            word = mtask__load(&bucket->word, RELAXED);
        } else if (mtask__cas(&bucket->word, &word,
                              word + more * MTASK__BUCKET_ONE + MTASK__BUCKET_LOCKED, SEQ_CST)) {
            return; /* acquire: pairs with mtask__bucket_unlock */
        }
    }
}

/* Nobody else changes the word meanwhile. Counts `less` waiters out: wakers who see too many only
   look in vain. */
static void mtask__bucket_unlock(mtask__bucket *bucket, mtask_word less) {
    mtask_word word = mtask__load(&bucket->word, RELAXED);
    mtask__store(&bucket->word, word - MTASK__BUCKET_LOCKED - less * MTASK__BUCKET_ONE, RELEASE);
}

static void mtask__bucket_add(mtask__bucket *bucket, mtask__waiter *waiter) {
    waiter->next = NULL;
    waiter->prev = bucket->last;
    if (bucket->last != NULL)
        bucket->last->next = waiter;
    else
        bucket->first = waiter;
    bucket->last = waiter;
    waiter->queued = true;
}

static void mtask__bucket_remove(mtask__bucket *bucket, mtask__waiter *waiter) {
    if (waiter->prev != NULL)
        waiter->prev->next = waiter->next;
    else
        bucket->first = waiter->next;
    if (waiter->next != NULL)
        waiter->next->prev = waiter->prev;
    else
        bucket->last = waiter->prev;
    waiter->queued = false;
}

static mtask_status mtask__park(mtask__parker *parker, mtask_word *word, mtask_word expected,
                                int64_t deadline, int flags) {
    mtask__bucket *bucket = mtask__bucket_of(word);
    mtask__waiter waiter;
    waiter.word = word;
    waiter.expected = expected;
    waiter.flags = flags;
    waiter.queued = true;
    waiter.parker = parker;
    if ((flags & MTASK__UNLISTED) != 0)
        return parker->park(parker, &waiter, deadline);
    if (mtask__load(&mtask__state.parked, RELAXED) == 0)
        mtask__store(&mtask__state.parked, 1,
                     RELAXED);     /* relaxed: a fork that does not see it has nothing to forget */
    mtask__bucket_lock(bucket, 1); /* seq_cst: pairs with the fence in mtask__wake */
    if (mtask__load(word, SEQ_CST) != expected) {
        mtask__bucket_unlock(bucket, 1);
        return MTASK_OK;
    }
    mtask__bucket_add(bucket, &waiter);
    mtask__bucket_unlock(bucket, 0);
    return parker->park(parker, &waiter, deadline);
}

MTASK_API bool mtask__unpark(mtask__waiter *waiter) {
    mtask__bucket *bucket = mtask__bucket_of(waiter->word);
    bool queued;
    if ((waiter->flags & MTASK__UNLISTED) != 0) {
        queued = waiter->queued; /* the parker's own thread is the only one that asks */
        waiter->queued = false;
        return queued;
    }
    mtask__bucket_lock(bucket, 0);
    queued = waiter->queued;
    if (queued)
        mtask__bucket_remove(bucket, waiter);
    mtask__bucket_unlock(bucket, queued ? 1 : 0);
    return queued;
}

MTASK_API bool mtask__is_parked(const mtask__waiter *waiter) {
    mtask__bucket *bucket = mtask__bucket_of(waiter->word);
    bool queued;
    mtask__bucket_lock(bucket, 0);
    queued = waiter->queued;
    mtask__bucket_unlock(bucket, 0);
    return queued;
}

static bool mtask__classes_meet(int waiter, int waker) {
    waiter &= MTASK__CLASSES;
    waker &= MTASK__CLASSES;
    return waiter == 0 || waker == 0 || (waiter & waker) != 0;
}

/* Takes up to `n` matching waiters out, each with its parker pinned, as a chain. */
static mtask__waiter *mtask__bucket_take(mtask__bucket *bucket, const mtask_word *word, int n,
                                         int flags) {
    mtask__waiter *chain = NULL;
    mtask__waiter **end = &chain;
    mtask__waiter *next;
    mtask_word taken = 0;
    mtask__bucket_lock(bucket, 0);
    for (mtask__waiter *waiter = bucket->first; waiter != NULL && n > 0; waiter = next) {
        next = waiter->next;
        if (waiter->word != word || !mtask__classes_meet(waiter->flags, flags))
            continue;
        mtask__bucket_remove(bucket, waiter);
        if (waiter->parker->pin != NULL)
            waiter->parker->pin(waiter->parker);
        waiter->next = NULL;
        *end = waiter;
        end = &waiter->next;
        taken++;
        n--;
    }
    mtask__bucket_unlock(bucket, taken);
    return chain;
}

static int mtask__wake_parked(mtask__bucket *bucket, const mtask_word *word, int n, int flags) {
    int woken = 0;
    mtask__waiter *next;
    for (mtask__waiter *waiter = mtask__bucket_take(bucket, word, n, flags); waiter != NULL;
         waiter = next) {
        next = waiter->next; /* the waiter may be gone after the post */
        waiter->parker->post(waiter->parker, waiter);
        woken++;
    }
    return woken;
}

MTASK_API void mtask__wake_known(void) {
    mtask__store(&mtask__state.known, 1,
                 RELAXED); /* threads were always counted: pairs with none */
}

/* Whether the system may know of threads that sleep on a word of this bucket. Those of processes
   and of other copies of mtask are not counted. */
static bool mtask__may_sleep(const mtask__bucket *bucket, int flags) {
    return mtask__load(&bucket->asleep, RELAXED) != 0 || (flags & MTASK_SHARED) != 0 ||
           mtask__load(&mtask__state.known, RELAXED) == 0; /* after the fence in mtask__wake */
}

/* How many are parked, after a full fence; a read-modify-write is one on some CPUs. */
static mtask_word mtask__bucket_count(mtask__bucket *bucket, int flags) {
# if MTASK__RMW_FENCES
    if ((flags & MTASK__AFTER_RMW) != 0) {
        __atomic_signal_fence(__ATOMIC_SEQ_CST); /* the compiler keeps the order, too */
        return mtask__load(&bucket->word, RELAXED) / MTASK__BUCKET_ONE;
    }
# endif
    (void)flags;
    return mtask__fence_load(&bucket->word) / MTASK__BUCKET_ONE;
}

MTASK_API int mtask__wake(mtask_word *word, int n, int flags) {
    mtask__bucket *bucket = mtask__bucket_of(word);
    bool parked =
        mtask__bucket_count(bucket, flags) != 0;   /* pairs with the read-modify-writes in */
    bool asleep = mtask__may_sleep(bucket, flags); /* mtask__park and mtask__sleep */
    bool parked_first = parked && !asleep;
    int woken = 0;
    if (parked && asleep) /* every 8th time parked tasks go first; a lost count does no harm */
        parked_first = mtask__add(&bucket->turn, 1, RELAXED) % 8 == 7;
    if (parked_first)
        woken = mtask__wake_parked(bucket, word, n, flags);
    if (asleep && woken < n)
        woken += mtask__os_wake(word, n - woken, flags);
    if (parked && !parked_first && woken < n)
        woken += mtask__wake_parked(bucket, word, n - woken, flags);
    return woken;
}

/* ---- >>listener: wait for one of several ---- */

# define MTASK__SIGNAL_ENOUGH ((mtask_word)1 << 31)

MTASK_API void mtask__listener_link(mtask__listener **list, mtask__listener *listener) {
    listener->prev = NULL;
    listener->next = *list;
    if (*list != NULL)
        (*list)->prev = listener;
    *list = listener;
    listener->linked = true;
}

MTASK_API void mtask__listener_unlink(mtask__listener **list, mtask__listener *listener) {
    if (!listener->linked)
        return;
    if (listener->prev != NULL)
        listener->prev->next = listener->next;
    else
        *list = listener->next;
    if (listener->next != NULL)
        listener->next->prev = listener->prev;
    listener->linked = false;
}

MTASK_API void mtask__signal_fire(mtask__signal *signal, bool enough) {
    mtask_word target = signal->target;
    mtask_word fired = enough ? mtask__or(&signal->fired, MTASK__SIGNAL_ENOUGH, ACQ_REL) + target
                              : mtask__add(&signal->fired, 1, ACQ_REL) + 1;
    if (fired >= target) /* acq_rel: pairs with the acquire in mtask__signal_wait */
        mtask__wake(&signal->fired, 1, MTASK__AFTER_RMW);
}

MTASK_API mtask_status mtask__signal_wait(mtask__signal *signal, int64_t deadline) {
    mtask_status status = MTASK_OK;
    for (;;) {
        mtask_word fired = mtask__load(&signal->fired, ACQUIRE); /* pairs with mtask__signal_fire */
        if (fired >= signal->target)
            return MTASK_OK;
        if (status != MTASK_OK)
            return status;
        status = mtask__wait(&signal->fired, fired, deadline, 0);
    }
}

/* ---- >>mutex ---- */

MTASK_API mtask_status mtask_mutex_init(mtask_mutex *mutex, int flags) {
    mtask_status status = mtask__check_flags(flags, MTASK_SHARED | MTASK_CHECKED);
    if (status == MTASK_OK)
        mutex->word = ((flags & MTASK_SHARED) != 0 ? MTASK__SHARED : 0) |
                      ((flags & MTASK_CHECKED) != 0 ? MTASK__CHECKED : 0);
    return status;
}

/* Takes the lock if it is free, leaving `extra` bits in the word. */
static bool mtask__mutex_take(mtask_mutex *mutex, mtask_word *word, mtask_word extra) {
    while ((*word & MTASK__LOCKED) == 0)
        if (mtask__cas(&mutex->word, word, *word | MTASK__LOCKED | extra, ACQUIRE))
            return true; /* acquire: pairs with the releases of the two unlocks */
    return false;
}

/* Spins for a lock whose holder is likely to run, and to let go soon. It looks only after every
   sixth pause, since each look takes the line away from the holder's cache. */
static bool mtask__mutex_spin(mtask_mutex *mutex, mtask_word *word) {
    mtask__thread_self *self = mtask__me();
    unsigned limit = mtask__spin_limit(self);
    unsigned turns = 0;
    bool taken = mtask__mutex_take(mutex, word, 0);
    while (!taken && turns < limit) {
        for (int i = 0; i < 6; i++)
            mtask__pause();
        turns += 6;
        *word = mtask__load(&mutex->word, RELAXED); /* a guess that the CAS confirms */
        taken = mtask__mutex_take(mutex, word, 0);
    }
    mtask__spin_learn(self, taken, turns);
    return taken;
}

/* The flag does not tell how many sleep, and an unlocker clears it: so whoever has slept sets it
   again when it takes the lock or sleeps on. One that gives up was not woken (woken beats timed
   out: it looks once more), so it owes nothing to the others. */
static mtask_status mtask__mutex_lock_until(mtask_mutex *mutex, int64_t deadline, int flags) {
    mtask_status status = MTASK_OK;
    mtask_word slept = 0;
    mtask_word word = mtask__load(&mutex->word, RELAXED); /* a guess that the CAS confirms */
    if (deadline != 0 && mtask__mutex_spin(mutex, &word))
        return MTASK_OK;
    while (!mtask__mutex_take(mutex, &word, slept)) {
        if (status != MTASK_OK)
            return status;
        if (mtask__sleep_on(&mutex->word, word, MTASK__WAITERS, deadline, flags, &status))
            slept = MTASK__WAITERS;
        word = mtask__load(&mutex->word, RELAXED); /* a guess that the CAS confirms */
    }
    return MTASK_OK;
}

MTASK_API mtask_status mtask__mutex_lock_slow(mtask_mutex *mutex, int64_t timeout) {
    int64_t deadline;
    mtask_status status = mtask__deadline(timeout, &deadline);
    if (status != MTASK_OK)
        return status;
    return mtask__mutex_lock_until(mutex, deadline, timeout == MTASK_FOREVER ? MTASK__NOCANCEL : 0);
}

MTASK_API mtask_status mtask__mutex_unlock_slow(mtask_mutex *mutex) {
    mtask_word word = mtask__load(&mutex->word, RELAXED); /* a guess that the CAS confirms */
    do {
        if ((word & MTASK__LOCKED) == 0)
            return MTASK_INVALID;
    } while (!mtask__cas(&mutex->word, &word, word & (MTASK__SHARED | MTASK__CHECKED), RELEASE));
    /* release: pairs with the acquire in mtask__mutex_take. From here on only the address. */
    if ((word & MTASK__WAITERS) != 0)
        mtask__wake(&mutex->word, 1, mtask__flags_of(word));
    return MTASK_OK;
}

/* Takes a lock back, whatever happens: the caller of a wait relies on it. */
static void mtask__relock(mtask_mutex *mutex) {
    while ((mtask_mutex_lock)(mutex) != MTASK_OK)
        mtask__os_yield(); /* the kernel refused to let it sleep */
}

MTASK_API void mtask__lock(mtask_mutex *mutex) {
    mtask_word unlocked = 0;
    if (mtask__cas(&mutex->word, &unlocked, MTASK__LOCKED, ACQUIRE)) /* pairs with mtask__unlock */
        return;
    while (mtask__mutex_lock_until(mutex, MTASK_FOREVER, MTASK__NOPARK) != MTASK_OK)
        mtask__os_yield(); /* the kernel refused to let it sleep */
}

MTASK_API void mtask__unlock(mtask_mutex *mutex) {
    (void)(mtask_mutex_unlock)(mutex);
}

/* ---- >>rmutex ---- */

MTASK_API mtask_status mtask_rmutex_init(mtask_rmutex *rmutex, int flags) {
    mtask_status status = mtask__check_flags(flags, MTASK_SHARED);
    if (status != MTASK_OK)
        return status;
    memset(rmutex, 0, sizeof *rmutex);
    return mtask_mutex_init(&rmutex->mutex, flags);
}

/* The owner is compared only with the caller's own number, which only the caller ever writes: so it
   needs no order, but it must be read in one piece. Where 64 bits cannot be, two halves may be of
   two owners; then a caller is deceived only if one of them has its upper and the other, before and
   after, its lower half, which every process draws elsewhere (see mtask__process_init). */
# if UINTPTR_MAX > UINT32_MAX
static void mtask__owner_store(mtask_rmutex *rmutex, uint64_t id) {
    mtask__store(&rmutex->owner.whole, id, RELAXED);
}

static uint64_t mtask__owner_load(const mtask_rmutex *rmutex) {
    return mtask__load(&rmutex->owner.whole, RELAXED);
}
# else
static void mtask__owner_store(mtask_rmutex *rmutex, uint64_t id) {
    mtask__store(&rmutex->owner.half[0], (mtask_word)id, RELEASE);
    mtask__store(&rmutex->owner.half[1], (mtask_word)(id >> 32), RELEASE);
}

static uint64_t mtask__owner_load(const mtask_rmutex *rmutex) {
    mtask_word low = mtask__load(&rmutex->owner.half[0], ACQUIRE);
    mtask_word high = mtask__load(&rmutex->owner.half[1], ACQUIRE);
    return mtask__load(&rmutex->owner.half[0], ACQUIRE) == low ? (uint64_t)high << 32 | low : 0;
}
# endif

/* The caller as the owner of this lock. A private one that was held across a fork is the child's
   too, so there it is the number that the task was born with. */
static uint64_t mtask__rmutex_self(const mtask_rmutex *rmutex) {
    const mtask__task *task = mtask__me()->task;
    bool shared = (mtask__load(&rmutex->mutex.word, RELAXED) & MTASK__SHARED) != 0;
    return shared ? task->id : task->birth; /* relaxed: SHARED never changes after init */
}

static bool mtask__rmutex_mine(const mtask_rmutex *rmutex) {
    return mtask__owner_load(rmutex) == mtask__rmutex_self(rmutex);
}

/* The caller has just locked it. */
static void mtask__rmutex_own(mtask_rmutex *rmutex, uint32_t count) {
    mtask__owner_store(rmutex, mtask__rmutex_self(rmutex));
    rmutex->count = count;
}

MTASK_API mtask_status(mtask_rmutex_lock_for)(mtask_rmutex *rmutex, int64_t timeout) {
    mtask_status status;
    if (timeout < 0)
        return MTASK_INVALID;
    if (mtask__rmutex_mine(rmutex)) {
        if (rmutex->count == UINT32_MAX)
            return MTASK_OVERFLOW;
        rmutex->count++;
        return MTASK_OK;
    }
    status = (mtask_mutex_lock_for)(&rmutex->mutex, timeout);
    if (status == MTASK_OK) {
        mtask__rmutex_own(rmutex, 1);
    }
    return status;
}

MTASK_API mtask_status(mtask_rmutex_lock)(mtask_rmutex *rmutex) {
    return (mtask_rmutex_lock_for)(rmutex, MTASK_FOREVER);
}

MTASK_API mtask_status(mtask_rmutex_unlock)(mtask_rmutex *rmutex) {
    if (!mtask__rmutex_mine(rmutex))
        return MTASK_NOT_OWNER;
    if (--rmutex->count > 0)
        return MTASK_OK;
    mtask__owner_store(rmutex, 0);
    return (mtask_mutex_unlock)(&rmutex->mutex);
}

MTASK_API bool mtask_rmutex_is_locked(const mtask_rmutex *rmutex) {
    return mtask_mutex_is_locked(&rmutex->mutex);
}

MTASK_API uint32_t mtask_rmutex_count(const mtask_rmutex *rmutex) {
    return mtask__rmutex_mine(rmutex) ? rmutex->count : 0;
}

/* ---- >>shared-mutex ---- */

MTASK_API mtask_status mtask_shared_mutex_init(mtask_shared_mutex *mutex) {
    return mtask__os_robust_init(mutex);
}

MTASK_API mtask_status mtask_shared_mutex_deinit(mtask_shared_mutex *mutex) {
    return mtask__os_robust_deinit(mutex);
}

/* In a coroutine, which must not block its thread, the lock is polled: its owner is a thread and
   cannot wake a coroutine. */
static mtask_status mtask__robust_poll(mtask_shared_mutex *mutex, int64_t deadline, int flags) {
    int64_t pause = MTASK_US(50);
    for (;;) {
        mtask_word never = 0;
        mtask_status status = mtask__os_robust_lock(mutex, 0);
        int64_t now = mtask_now();
        if (status != MTASK_TIMEOUT || deadline <= now || now < 0)
            return status;
        status = mtask__wait(&never, 0, deadline - now < pause ? deadline : now + pause,
                             flags | MTASK__ALONE);
        if (status != MTASK_TIMEOUT && status != MTASK_OK)
            return status;
        pause = pause < MTASK_MS(5) ? 2 * pause : MTASK_MS(10);
    }
}

/* A thread sleeps in slices, as for all that processes share: a process that was woken, and killed
   while another had taken the lock in passing, leaves the next sleeper without a wake. */
static mtask_status mtask__robust_sleep(mtask_shared_mutex *mutex, int64_t deadline) {
    mtask_status first = mtask__os_robust_lock(mutex, 0); /* without a look at the clock */
    if (first != MTASK_TIMEOUT || deadline == 0)
        return first;
    for (;;) {
        int64_t recheck = mtask_now() + MTASK__RECHECK;
        int64_t end = deadline < recheck ? deadline : recheck;
        mtask_status status = mtask__os_robust_lock(mutex, end);
        if (status != MTASK_TIMEOUT || end == deadline)
            return status;
    }
}

MTASK_API mtask_status mtask_shared_mutex_lock_for(mtask_shared_mutex *mutex, int64_t timeout) {
    int64_t deadline;
    mtask_status status = mtask__deadline(timeout, &deadline);
    if (status != MTASK_OK)
        return status;
    if (mtask__me()->task->parker == NULL)
        return mtask__robust_sleep(mutex, deadline);
    return mtask__robust_poll(mutex, deadline, timeout == MTASK_FOREVER ? MTASK__NOCANCEL : 0);
}

MTASK_API mtask_status mtask_shared_mutex_lock(mtask_shared_mutex *mutex) {
    return mtask_shared_mutex_lock_for(mutex, MTASK_FOREVER);
}

MTASK_API mtask_status mtask_shared_mutex_consistent(mtask_shared_mutex *mutex) {
    return mtask__os_robust_consistent(mutex);
}

MTASK_API mtask_status mtask_shared_mutex_unlock(mtask_shared_mutex *mutex) {
    return mtask__os_robust_unlock(mutex);
}

/* ---- >>condition ---- */

/* A waiter of a private condition, on its own stack. Its word becomes 1 when it is notified. */
typedef struct mtask__cond_waiter {
    struct mtask__cond_waiter *next; /* ring, guarded by the condition's lock */
    struct mtask__cond_waiter *prev;
    mtask_word word;
    bool queued;
} mtask__cond_waiter;

/* What a wait lets go of, and takes back. */
typedef struct mtask__held {
    mtask_mutex *mutex;
    mtask_rmutex *rmutex; /* NULL: a plain mutex */
    uint32_t depth;
} mtask__held;

MTASK_API mtask_status mtask_cond_init(mtask_cond *cond, int flags) {
    mtask_status status = mtask__check_flags(flags, MTASK_SHARED);
    if (status != MTASK_OK)
        return status;
    memset(cond, 0, sizeof *cond);
    return mtask__init_word(&cond->state, flags);
}

static mtask_status mtask__held_release(mtask__held *held) {
    if (held->rmutex == NULL)
        return (mtask_mutex_unlock)(held->mutex);
    if (!mtask__rmutex_mine(held->rmutex))
        return MTASK_NOT_OWNER;
    held->depth = held->rmutex->count;
    held->rmutex->count = 1;
    return (mtask_rmutex_unlock)(held->rmutex);
}

static void mtask__held_reacquire(const mtask__held *held) {
    mtask__relock(held->mutex);
    if (held->rmutex != NULL) {
        mtask__rmutex_own(held->rmutex, held->depth);
    }
}

/* The ring is entered at cond->waiters, the one who came last; its next came first. The pointer is
   written with the lock held but read without it: see mtask_cond_notify. */
static void mtask__cond_enter(mtask_cond *cond, mtask__cond_waiter *waiter) {
    mtask__cond_waiter *last;
    mtask__lock(&cond->lock);
    last = cond->waiters;
    waiter->next = last != NULL ? last->next : waiter;
    waiter->prev = last != NULL ? last : waiter;
    waiter->next->prev = waiter;
    waiter->prev->next = waiter;
    waiter->queued = true;
    mtask__store(&cond->waiters, waiter, RELAXED); /* the user's mutex orders it: see notify */
    mtask__unlock(&cond->lock);
}

static void mtask__cond_remove(mtask_cond *cond, mtask__cond_waiter *waiter) {
    mtask__cond_waiter *last = cond->waiters;
    if (waiter->next == waiter)
        last = NULL;
    else if (last == waiter)
        last = waiter->prev;
    waiter->next->prev = waiter->prev;
    waiter->prev->next = waiter->next;
    waiter->queued = false;
    mtask__store(&cond->waiters, last, RELAXED); /* as in mtask__cond_enter */
}

/* A waiter gives up: takes it out of the ring. False: a notifier has it already; then it has been
   notified, and may go, as soon as its word says so. */
static bool mtask__cond_leave(mtask_cond *cond, mtask__cond_waiter *waiter) {
    bool queued;
    mtask__lock(&cond->lock);
    queued = waiter->queued;
    if (queued)
        mtask__cond_remove(cond, waiter);
    mtask__unlock(&cond->lock);
    while (!queued && mtask__load(&waiter->word, ACQUIRE) == 0) /* pairs with notify */
        if (mtask__wait(&waiter->word, 0, MTASK_FOREVER, MTASK__NOCANCEL) != MTASK_OK)
            mtask__os_yield();
    return queued;
}

/* Why no notify is lost: the waiter is in the ring before it lets go of the mutex, so whoever
   changes the predicate under the mutex and then notifies finds it there. */
static mtask_status mtask__cond_wait_private(mtask_cond *cond, mtask__held *held,
                                             int64_t deadline) {
    mtask__cond_waiter waiter;
    mtask_status status;
    memset(&waiter, 0, sizeof waiter);
    mtask__cond_enter(cond, &waiter);
    status = mtask__held_release(held);
    if (status != MTASK_OK) {
        if (!mtask__cond_leave(cond, &waiter)) /* it took a notify that was meant for another */
            (void)mtask_cond_notify(cond, 1);
        return status;
    }
    while (status == MTASK_OK && mtask__load(&waiter.word, ACQUIRE) == 0) /* pairs with notify */
        status = mtask__wait(&waiter.word, 0, deadline, 0);
    if (status != MTASK_OK && !mtask__cond_leave(cond, &waiter))
        status = MTASK_OK; /* woken beats cancelled beats timed out */
    mtask__held_reacquire(held);
    return status;
}

/* Between processes there are no lists: a sequence number that every notify changes. The waiter
   counts itself before it lets go of the mutex, so a notifier that comes after sees it; and the
   kernel lets it sleep only while the number is the old one. */
static mtask_status mtask__cond_wait_shared(mtask_cond *cond, mtask__held *held, int64_t deadline) {
    mtask_word sequence;
    mtask_status status;
    mtask__add(&cond->state, 1, SEQ_CST);
    sequence = mtask__load(&cond->lock.word, SEQ_CST);
    status = mtask__held_release(held);
    if (status == MTASK_OK) {
        while (status == MTASK_OK && mtask__load(&cond->lock.word, SEQ_CST) == sequence)
            status = mtask__wait(&cond->lock.word, sequence, deadline, MTASK_SHARED);
        if (mtask__load(&cond->lock.word, SEQ_CST) != sequence)
            status = MTASK_OK;
        mtask__held_reacquire(held);
    }
    mtask__sub(&cond->state, 1, SEQ_CST);
    return status;
}

static bool mtask__cond_is_shared(const mtask_cond *cond) {
    return (mtask__load(&cond->state, RELAXED) & MTASK__SHARED) != 0; /* never changes after init */
}

static mtask_status mtask__cond_wait_held(mtask_cond *cond, mtask__held *held, int64_t timeout) {
    int64_t deadline;
    mtask_status status = mtask__deadline(timeout, &deadline);
    if (status != MTASK_OK)
        return status;
    if (mtask__cond_is_shared(cond))
        return mtask__cond_wait_shared(cond, held, deadline);
    return mtask__cond_wait_private(cond, held, deadline);
}

MTASK_API mtask_status(mtask_cond_wait)(mtask_cond *cond, mtask_mutex *mutex, int64_t timeout) {
    mtask__held held;
    held.mutex = mutex;
    held.rmutex = NULL;
    held.depth = 0;
    return mtask__cond_wait_held(cond, &held, timeout);
}

MTASK_API mtask_status(mtask_cond_wait_rmutex)(mtask_cond *cond, mtask_rmutex *rmutex,
                                               int64_t timeout) {
    mtask__held held;
    held.mutex = &rmutex->mutex;
    held.rmutex = rmutex;
    held.depth = 0;
    if (timeout >= 0 && !mtask__rmutex_mine(rmutex))
        return MTASK_NOT_OWNER;
    return mtask__cond_wait_held(cond, &held, timeout);
}

/* Takes up to `n` waiters out, as a chain, the one who has waited longest first. */
static mtask__cond_waiter *mtask__cond_take(mtask_cond *cond, int n) {
    mtask__cond_waiter *chain = NULL;
    mtask__cond_waiter **end = &chain;
    mtask__lock(&cond->lock);
    while (n-- > 0 && cond->waiters != NULL) {
        mtask__cond_waiter *first = cond->waiters->next;
        mtask__cond_remove(cond, first);
        first->next = NULL;
        *end = first;
        end = &first->next;
    }
    mtask__unlock(&cond->lock);
    return chain;
}

MTASK_API mtask_status mtask_cond_notify(mtask_cond *cond, int n) {
    mtask__cond_waiter *next;
    if (n < 0)
        return MTASK_INVALID;
    if (mtask__cond_is_shared(cond)) {
        if ((mtask__load(&cond->state, SEQ_CST) & ~MTASK__SHARED) != 0) {
            mtask__add(&cond->lock.word, 1, SEQ_CST);
            mtask__wake(&cond->lock.word, n, MTASK_SHARED);
        }
        return MTASK_OK;
    }
    if (mtask__load(&cond->waiters, RELAXED) == NULL) /* a waiter whose wait began before this call
        entered the ring before it let go of the mutex that the caller has, or had, since then */
        return MTASK_OK;
    for (mtask__cond_waiter *waiter = mtask__cond_take(cond, n); waiter != NULL; waiter = next) {
        next = waiter->next; /* after the store the waiter may be gone: only its address is left */
        mtask__store(&waiter->word, 1, RELEASE); /* pairs with the acquire of the waiter */
        mtask__wake(&waiter->word, 1, 0);
    }
    return MTASK_OK;
}

MTASK_API mtask_status mtask_cond_notify_all(mtask_cond *cond) {
    return mtask_cond_notify(cond, INT_MAX);
}

/* ---- >>semaphore ---- */

MTASK_API mtask_status mtask_sem_init(mtask_sem *sem, int64_t value, int64_t limit, int flags) {
    mtask_status status = mtask__check_flags(flags, MTASK_SHARED);
    if (status != MTASK_OK)
        return status;
    if (limit < 0 || limit > (int64_t)MTASK_SEM_MAX || value < 0 ||
        value > (limit == 0 ? (int64_t)MTASK_SEM_MAX : limit))
        return MTASK_INVALID;
    (void)mtask__init_word(&sem->word, flags);
    sem->word |= (mtask_word)value;
    sem->limit = (mtask_word)limit;
    return MTASK_OK;
}

/* Takes one if there is one; leaves `extra` bits in the word. */
static bool mtask__sem_take(mtask_sem *sem, mtask_word *word, mtask_word extra) {
    while ((*word & MTASK_SEM_MAX) != 0)
        if (mtask__cas(&sem->word, word, (*word - 1) | extra, ACQUIRE))
            return true; /* acquire: pairs with the release in mtask_sem_release */
    return false;
}

/* A release clears the flag and wakes as many as it gives. The flag does not tell how many sleep,
   so whoever has slept sets it again whatever it finds; and if it leaves units behind, given by
   releases that saw no flag in the meantime, it wakes others for them. */
MTASK_API mtask_status mtask__sem_acquire_slow(mtask_sem *sem, int64_t timeout) {
    int64_t deadline;
    mtask_word slept = 0;
    mtask_word word = mtask__load(&sem->word, RELAXED); /* a guess that the CAS confirms */
    mtask_status status = mtask__deadline(timeout, &deadline);
    if (status != MTASK_OK)
        return status;
    while (!mtask__sem_take(sem, &word, slept)) {
        if (status != MTASK_OK)
            return status;
        if (mtask__sleep_on(&sem->word, word, MTASK__SEM_WAITERS, deadline, 0, &status))
            slept = MTASK__SEM_WAITERS;
        word = mtask__load(&sem->word, RELAXED); /* a guess that the CAS confirms */
    }
    if (slept != 0 &&
        (word & MTASK_SEM_MAX) > 1) /* two: they spread like a tree, with few in vain */
        mtask__wake(&sem->word, 2, mtask__flags_of(word));
    return MTASK_OK;
}

MTASK_API mtask_status mtask__sem_release_slow(mtask_sem *sem, int64_t n) {
    mtask_word limit = sem->limit != 0 ? sem->limit : MTASK_SEM_MAX;
    mtask_word word = mtask__load(&sem->word, RELAXED); /* a guess that the CAS confirms */
    if (n < 1)
        return MTASK_INVALID;
    do {
        if (n > (int64_t)limit - (int64_t)(word & MTASK_SEM_MAX))
            return MTASK_OVERFLOW;
    } while (!mtask__cas(&sem->word, &word, (word & ~MTASK__SEM_WAITERS) + (mtask_word)n, RELEASE));
    /* release: pairs with the acquire in mtask__sem_take. From here on only the address. */
    if ((word & MTASK__SEM_WAITERS) != 0)
        mtask__wake(&sem->word, (int)n, mtask__flags_of(word));
    return MTASK_OK;
}

/* ---- >>event ---- */

# define MTASK__EVENT_GENERATION (~(MTASK__SHARED | MTASK__WAITERS | MTASK__EVENT_SET))

MTASK_API mtask_status mtask_event_init(mtask_event *event, int flags) {
    return mtask__init_word(&event->word, flags);
}

/* The set that clears the flag also changes the generation, and so releases even those who look
   only after a clear. */
MTASK_API void mtask__event_set_slow(mtask_event *event) {
    mtask_word word = mtask__load(&event->word, RELAXED); /* a guess that the CAS confirms */
    mtask_word next;
    do {
        next = (word | MTASK__EVENT_SET) & ~MTASK__WAITERS;
        if ((word & MTASK__WAITERS) != 0)
            next = (next & ~MTASK__EVENT_GENERATION) | ((next + 4) & MTASK__EVENT_GENERATION);
    } while (!mtask__cas(&event->word, &word, next, RELEASE));
    /* release: pairs with the acquire of the waiters. From here on only the address. */
    if ((word & MTASK__WAITERS) != 0)
        mtask__wake(&event->word, INT_MAX, mtask__flags_of(word));
}

MTASK_API mtask_status mtask__event_wait_slow(mtask_event *event, int64_t timeout) {
    int64_t deadline;
    mtask_status status = mtask__deadline(timeout, &deadline);
    mtask_word word = mtask__load(&event->word, ACQUIRE); /* pairs with set, as below */
    mtask_word generation = word & MTASK__EVENT_GENERATION;
    if (status != MTASK_OK)
        return status;
    while ((word & MTASK__EVENT_SET) == 0 && (word & MTASK__EVENT_GENERATION) == generation) {
        if (status != MTASK_OK)
            return status;
        (void)mtask__sleep_on(&event->word, word, MTASK__WAITERS, deadline, 0, &status);
        word = mtask__load(&event->word, ACQUIRE);
    }
    return MTASK_OK;
}

/* ---- >>barrier ---- */

/* The plain fields say under the lock what is so; the word repeats it for those who sleep on it:
     bit 0      BROKEN: no meeting until a reset
     bit 1      DRAINING: a reset waits until all have left the broken round
     bits 2-9   whether the last 8 rounds ended by a reset; bit 2 the last one
     bits 10-30 number of the round that is going on
     bit 31     SHARED
   The last to arrive goes on to the next round under the lock, lets go of it, and only then changes
   the word: that is the last it touches. A waiter whose round was a meeting learns that from the
   word, and touches nothing more. So whoever knows that all have come back may free the barrier.
   Who leaves a broken round counts itself out under the lock. */
# define MTASK__BARRIER_BROKEN   ((mtask_word)1)
# define MTASK__BARRIER_DRAINING ((mtask_word)2)
# define MTASK__BARRIER_HISTORY  ((mtask_word)0x3fc)
# define MTASK__BARRIER_ROUND    ((mtask_word)0x400)

MTASK_API mtask_status mtask_barrier_init(mtask_barrier *barrier, uint32_t parties, mtask_fn action,
                                          void *arg, int flags) {
    mtask_status status = mtask__check_flags(flags, MTASK_SHARED);
    if (status != MTASK_OK)
        return status;
    if (parties < 1)
        return MTASK_INVALID;
    memset(barrier, 0, sizeof *barrier);
    barrier->parties = parties;
    barrier->action = action;
    barrier->arg = arg;
    (void)mtask__init_word(&barrier->word, flags);
    barrier->now = barrier->word;
    return mtask_mutex_init(&barrier->lock, flags);
}

/* The word without what is not its round: two of these differ by whole rounds. */
static mtask_word mtask__barrier_round(mtask_word word) {
    return word & ~(MTASK__SHARED | (MTASK__BARRIER_ROUND - 1));
}

/* How many rounds `now` is ahead of `then`; negative: behind. */
static int32_t mtask__barrier_ahead(mtask_word now, mtask_word then) {
    mtask_word ahead = mtask__barrier_round(now) - mtask__barrier_round(then);
    return (int32_t)(ahead << 1) / (int32_t)(MTASK__BARRIER_ROUND << 1);
}

/* With the lock held: the next round begins; the last one ended by a reset, or not. */
static void mtask__barrier_advance(mtask_barrier *barrier, bool reset) {
    mtask_word now = barrier->now;
    mtask_word history = (now & MTASK__BARRIER_HISTORY) << 1 | (reset ? 4 : 0);
    mtask_word round = mtask__barrier_round(mtask__barrier_round(now) + MTASK__BARRIER_ROUND);
    barrier->now = (now & MTASK__SHARED) | round | (history & MTASK__BARRIER_HISTORY);
    barrier->arrived = 0;
    barrier->leaving = 0;
}

/* Puts `now` into the word, unless that says it, or more, already: the last of one round, who no
   longer has the lock, may be overtaken by others. Wakes all. */
static void mtask__barrier_publish(mtask_barrier *barrier, mtask_word now) {
    mtask_word word = mtask__load(&barrier->word, RELAXED); /* a guess that the CAS confirms */
    do {
        int32_t ahead = mtask__barrier_ahead(now, word);
        if (ahead < 0 || (ahead == 0 && (now & MTASK__BARRIER_BROKEN) == 0))
            return;
    } while (
        !mtask__cas(&barrier->word, &word, now, RELEASE)); /* pairs with the waiters' acquire */
    mtask__wake(&barrier->word, INT_MAX, mtask__flags_of(now));
}

/* With the lock held: nobody meets in this round any more. */
static void mtask__barrier_break(mtask_barrier *barrier) {
    if ((barrier->now & MTASK__BARRIER_BROKEN) != 0)
        return;
    barrier->leaving = barrier->arrived;
    barrier->arrived = 0;
    barrier->now |= MTASK__BARRIER_BROKEN;
    mtask__barrier_publish(barrier, barrier->now);
}

/* With the lock held: when a reset is wanted and the broken round is empty, begins the next. */
static void mtask__barrier_renew(mtask_barrier *barrier) {
    if (barrier->leaving > 0 || (barrier->now & MTASK__BARRIER_DRAINING) == 0)
        return;
    mtask__barrier_advance(barrier, true);
    mtask__barrier_publish(barrier, barrier->now);
}

/* With the lock held: the caller leaves the broken round of `mine`; lets go of the lock. */
static mtask_status mtask__barrier_leave(mtask_barrier *barrier, mtask_word mine,
                                         mtask_status status) {
    if (mtask__barrier_ahead(barrier->now, mine) == 0 && barrier->leaving > 0) {
        barrier->leaving--;
        mtask__barrier_renew(barrier);
    }
    mtask__unlock(&barrier->lock);
    return status;
}

/* How the round of `mine` ended, or MTASK_EMPTY: it goes on. A round that somebody is still in ends
   by a reset only if it was given up for dead (see mtask__barrier_enter): hence the short history.
 */
static mtask_status mtask__barrier_verdict(mtask_word word, mtask_word mine) {
    int32_t ahead = mtask__barrier_ahead(word, mine);
    if (ahead == 0)
        return (word & MTASK__BARRIER_BROKEN) != 0 ? MTASK_BROKEN : MTASK_EMPTY;
    if (ahead < 0) /* the word does not say yet what `now` does */
        return MTASK_EMPTY;
    return ahead <= 8 && (word >> (ahead + 1) & 1) != 0 ? MTASK_BROKEN : MTASK_OK;
}

/* Waits, with the lock held on entry and on return, until the caller can arrive: not while a broken
   round empties, nor while the parties of a full round are busy with the action. Between processes
   nobody waits longer than a re-check for those who do not leave: they were killed. */
static mtask_status mtask__barrier_enter(mtask_barrier *barrier, int64_t deadline) {
    mtask_status status = MTASK_OK;
    while (status == MTASK_OK) {
        mtask_word word = mtask__load(&barrier->word, RELAXED); /* read under the lock */
        bool draining = (barrier->now & MTASK__BARRIER_DRAINING) != 0;
        if (!draining && (barrier->now & MTASK__BARRIER_BROKEN) != 0)
            return MTASK_BROKEN;
        if (!draining && barrier->arrived < barrier->parties)
            return MTASK_OK;
        mtask__unlock(&barrier->lock);
        status = mtask__wait(&barrier->word, word, deadline, mtask__flags_of(word));
        mtask__relock(&barrier->lock);
        if (draining && (word & MTASK__SHARED) != 0 && barrier->now == word) {
            barrier->leaving = 0;
            mtask__barrier_renew(barrier);
        }
    }
    return status;
}

/* The last to arrive, with the lock held on entry, not on return. */
static mtask_status mtask__barrier_complete(mtask_barrier *barrier, mtask_word mine) {
    mtask_word now;
    if (barrier->action != NULL) {
        mtask_status status;
        mtask__unlock(&barrier->lock);
        status = mtask__run(barrier->action, barrier->arg, NULL);
        mtask__relock(&barrier->lock);
        if (status != MTASK_OK)
            mtask__barrier_break(barrier);
        if (barrier->now != mine) /* by the action, or by others while it ran */
            return mtask__barrier_leave(barrier, mine, MTASK_BROKEN);
    }
    mtask__barrier_advance(barrier, false);
    now = barrier->now;
    mtask__unlock(&barrier->lock);
    mtask__barrier_publish(barrier, now);
    return MTASK_OK;
}

/* Sleeps until the round of `mine` is over; without the lock. A wait that fails when the round has
   just been completed goes on until the word says so, since whoever completed it still has to
   change the word. */
static mtask_status mtask__barrier_await(mtask_barrier *barrier, mtask_word mine,
                                         int64_t deadline) {
    mtask_status status = MTASK_OK;
    int cancel = 0;
    for (;;) {
        mtask_word word =
            mtask__load(&barrier->word, ACQUIRE); /* pairs with mtask__barrier_publish */
        mtask_status verdict = mtask__barrier_verdict(word, mine);
        if (verdict == MTASK_OK)
            return MTASK_OK;
        if (verdict == MTASK_EMPTY && status == MTASK_OK) {
            status = mtask__wait(&barrier->word, word, deadline, cancel | mtask__flags_of(word));
            continue;
        }
        mtask__relock(&barrier->lock);
        verdict = mtask__barrier_verdict(barrier->now, mine);
        if (verdict == MTASK_EMPTY)
            mtask__barrier_break(barrier);
        if (verdict != MTASK_OK)
            return mtask__barrier_leave(barrier, mine, verdict == MTASK_EMPTY ? status : verdict);
        mtask__unlock(&barrier->lock);
        status = MTASK_OK;
        deadline = MTASK_FOREVER;
        cancel = MTASK__NOCANCEL;
    }
}

MTASK_API mtask_status mtask_barrier_wait(mtask_barrier *barrier, uint32_t *index,
                                          int64_t timeout) {
    int64_t deadline;
    mtask_word mine;
    uint32_t arrival;
    mtask_status status = mtask__deadline(timeout, &deadline);
    if (status != MTASK_OK || barrier->parties == 0)
        return status != MTASK_OK ? status : MTASK_INVALID;
    status = (mtask_mutex_lock)(&barrier->lock);
    if (status != MTASK_OK)
        return status;
    status = mtask__barrier_enter(barrier, deadline);
    if (status != MTASK_OK) {
        mtask__unlock(&barrier->lock);
        return status;
    }
    arrival = barrier->arrived++;
    mine = barrier->now;
    if (index != NULL)
        *index = arrival;
    if (arrival + 1 == barrier->parties)
        return mtask__barrier_complete(barrier, mine);
    mtask__unlock(&barrier->lock);
    return mtask__barrier_await(barrier, mine, deadline);
}

MTASK_API mtask_status mtask_barrier_reset(mtask_barrier *barrier) {
    mtask_status status = (mtask_mutex_lock)(&barrier->lock);
    if (status != MTASK_OK)
        return status;
    if ((barrier->now & MTASK__BARRIER_BROKEN) != 0 || barrier->arrived > 0) {
        mtask__barrier_break(barrier);
        barrier->now |= MTASK__BARRIER_DRAINING;
        mtask__barrier_publish(barrier, barrier->now);
        mtask__barrier_renew(barrier);
    }
    return (mtask_mutex_unlock)(&barrier->lock);
}

MTASK_API mtask_status mtask_barrier_abort(mtask_barrier *barrier) {
    mtask_status status = (mtask_mutex_lock)(&barrier->lock);
    if (status != MTASK_OK)
        return status;
    mtask__barrier_break(barrier);
    barrier->now &= ~MTASK__BARRIER_DRAINING; /* also ends a reset that is still under way */
    mtask__barrier_publish(barrier, barrier->now);
    return (mtask_mutex_unlock)(&barrier->lock);
}

MTASK_API uint32_t mtask_barrier_parties(const mtask_barrier *barrier) {
    return barrier->parties;
}

MTASK_API uint32_t mtask_barrier_waiting(mtask_barrier *barrier) {
    uint32_t waiting = 0;
    if ((mtask_mutex_lock)(&barrier->lock) == MTASK_OK) {
        waiting = barrier->arrived;
        mtask__unlock(&barrier->lock);
    }
    return waiting;
}

MTASK_API bool mtask_barrier_is_broken(const mtask_barrier *barrier) {
    mtask_word word = mtask__load(&barrier->word, RELAXED); /* a hint: pairs with none */
    return (word & (MTASK__BARRIER_BROKEN | MTASK__BARRIER_DRAINING)) == MTASK__BARRIER_BROKEN;
}

/* ---- >>rwlock ---- */

# define MTASK__RW_WRITERS_WAIT ((mtask_word)1 << 29)
# define MTASK__RW_READERS_WAIT ((mtask_word)1 << 30)
# define MTASK__RW_WAIT         (MTASK__RW_WRITERS_WAIT | MTASK__RW_READERS_WAIT)

MTASK_API mtask_status mtask_rwlock_init(mtask_rwlock *rwlock, int flags) {
    return mtask__init_word(&rwlock->word, flags);
}

/* Everybody sleeps on the one word, readers in class 1, writers in class 2. Why no wake-up is lost:
   - A sleeper sets its flag before it sleeps, and sleeps only while the word still says what it
   saw. - A writer that unlocks clears both flags and wakes one writer or, if none sleeps, all
   readers. The flags do not tell how many sleep, so a writer that has slept sets both again when it
   takes the lock or sleeps on; if it gives up instead, it clears both and wakes everybody. - The
   last reader that unlocks leaves the flags and wakes one writer: WRITERS_WAIT keeps newcomers out
   until that writer has come. It has not gone away, since a writer leaves only by the two ways
   above, and both clear the flag. */
static void mtask__rwlock_wake(mtask_rwlock *rwlock, mtask_word word) {
    int flags = mtask__flags_of(word);
    if ((word & MTASK__RW_WRITERS_WAIT) != 0 &&
        mtask__wake(&rwlock->word, 1, flags | MTASK__CLASS_2) > 0)
        return;
    if ((word & MTASK__RW_READERS_WAIT) != 0)
        mtask__wake(&rwlock->word, INT_MAX, flags | MTASK__CLASS_1);
}

/* A writer gives up: the flags may be all that the others have to rely on, so it lets them look. */
static mtask_status mtask__rwlock_give_up(mtask_rwlock *rwlock, mtask_status status) {
    mtask_word word = mtask__and(&rwlock->word, ~MTASK__RW_WAIT, RELAXED); /* publishes nothing */
    if ((word & MTASK__RW_WAIT) != 0)
        mtask__wake(&rwlock->word, INT_MAX, mtask__flags_of(word));
    return status;
}

MTASK_API mtask_status mtask__rwlock_read_slow(mtask_rwlock *rwlock, int64_t timeout) {
    int64_t deadline;
    mtask_word seen;
    mtask_status status = mtask__deadline(timeout, &deadline);
    int flags = MTASK__CLASS_1 | (timeout == MTASK_FOREVER ? MTASK__NOCANCEL : 0);
    mtask_word word = mtask__load(&rwlock->word, RELAXED); /* a guess that the CAS confirms */
    if (status != MTASK_OK)
        return status;
    for (;;) {
        if ((word & (MTASK__RW_WRITE | MTASK__RW_WRITERS_WAIT)) == 0) {
            if ((word & MTASK__RW_READERS) == MTASK__RW_READERS)
                return MTASK_OVERFLOW;
            if (mtask__cas(&rwlock->word, &word, word + 1, ACQUIRE))
                return MTASK_OK; /* acquire: pairs with the release of the last writer */
            continue;
        }
        if (status != MTASK_OK)
            return status;
        seen = word | MTASK__RW_READERS_WAIT;
        (void)mtask__sleep_on(&rwlock->word, word, MTASK__RW_READERS_WAIT, deadline, flags,
                              &status);
        word = mtask__load(&rwlock->word, RELAXED); /* a guess that the CAS confirms */
        if (word == seen && word == (MTASK__SHARED | MTASK__RW_WAIT))
            (void)mtask__rwlock_give_up(rwlock, status); /* for a writer that was killed */
    }
}

MTASK_API mtask_status mtask__rwlock_write_slow(mtask_rwlock *rwlock, int64_t timeout) {
    int64_t deadline;
    mtask_status status = mtask__deadline(timeout, &deadline);
    int flags = MTASK__CLASS_2 | (timeout == MTASK_FOREVER ? MTASK__NOCANCEL : 0);
    mtask_word mark = MTASK__RW_WRITERS_WAIT;              /* once it has slept: both */
    mtask_word word = mtask__load(&rwlock->word, RELAXED); /* a guess that the CAS confirms */
    if (status != MTASK_OK)
        return status;
    for (;;) {
        if ((word & (MTASK__RW_WRITE | MTASK__RW_READERS)) == 0) {
            mtask_word next = word | MTASK__RW_WRITE | (mark == MTASK__RW_WAIT ? mark : 0);
            if (mtask__cas(&rwlock->word, &word, next, ACQUIRE))
                return MTASK_OK; /* acquire: pairs with the releases of readers and writers */
            continue;
        }
        if (status != MTASK_OK)
            return deadline != 0 ? mtask__rwlock_give_up(rwlock, status) : status;
        if (mtask__sleep_on(&rwlock->word, word, mark, deadline, flags, &status))
            mark = MTASK__RW_WAIT;
        word = mtask__load(&rwlock->word, RELAXED); /* a guess that the CAS confirms */
    }
}

MTASK_API mtask_status mtask__rwlock_unread_slow(mtask_rwlock *rwlock) {
    mtask_word word = mtask__load(&rwlock->word, RELAXED); /* a guess that the CAS confirms */
    do {
        if ((word & MTASK__RW_READERS) == 0)
            return MTASK_INVALID;
    } while (!mtask__cas(&rwlock->word, &word, word - 1, RELEASE));
    /* release: pairs with the acquire of the next writer. From here on only the address. */
    if ((word & MTASK__RW_READERS) == 1)
        mtask__rwlock_wake(rwlock, word);
    return MTASK_OK;
}

MTASK_API mtask_status mtask__rwlock_unwrite_slow(mtask_rwlock *rwlock) {
    mtask_word word = mtask__load(&rwlock->word, RELAXED); /* a guess that the CAS confirms */
    do {
        if ((word & MTASK__RW_WRITE) == 0)
            return MTASK_INVALID;
    } while (!mtask__cas(&rwlock->word, &word, word & MTASK__SHARED, RELEASE));
    /* release: pairs with the acquires of the next. From here on only the address. */
    mtask__rwlock_wake(rwlock, word);
    return MTASK_OK;
}

/* ---- >>once ---- */

MTASK_API mtask_status mtask_once_init(mtask_once_flag *once, int flags) {
    return mtask__init_word(&once->word, flags);
}

static mtask_status mtask__once_run(mtask_once_flag *once, mtask_word shared, mtask_fn fn,
                                    void *arg) {
    mtask_status status = mtask__run(fn, arg, NULL);
    mtask_word word = status == MTASK_OK ? shared | MTASK__ONCE_DONE : shared;
    word = mtask__exchange(&once->word, word, RELEASE); /* pairs with the acquires of the others */
    if ((word & MTASK__WAITERS) != 0)
        mtask__wake(&once->word, INT_MAX, mtask__flags_of(word));
    return status;
}

MTASK_API mtask_status mtask__once_slow(mtask_once_flag *once, mtask_fn fn, void *arg) {
    mtask_word word = mtask__load(&once->word, ACQUIRE); /* pairs with mtask__once_run */
    mtask_word shared = word & MTASK__SHARED;
    mtask_status status = MTASK_OK;
    while (status == MTASK_OK && (word & MTASK__ONCE_DONE) == 0) {
        if ((word & MTASK__ONCE_RUNNING) != 0)
            (void)mtask__sleep_on(&once->word, word, MTASK__WAITERS, MTASK_FOREVER, MTASK__NOCANCEL,
                                  &status);
        else if (mtask__cas(&once->word, &word, shared | MTASK__ONCE_RUNNING, ACQUIRE))
            return mtask__once_run(once, shared, fn, arg); /* acquire: sees what a failed run did */
        word = mtask__load(&once->word, ACQUIRE);
    }
    return status;
}

/* ---- >>waitgroup ---- */

# define MTASK__GROUP_WAITERS ((mtask_word)1 << 30)
# define MTASK__GROUP_COUNT   (MTASK__GROUP_WAITERS - 1)

MTASK_API mtask_status mtask_waitgroup_init(mtask_waitgroup *group, int flags) {
    return mtask__init_word(&group->word, flags);
}

MTASK_API mtask_status mtask_waitgroup_add(mtask_waitgroup *group, int64_t n) {
    mtask_word word = mtask__load(&group->word, RELAXED); /* a guess that the CAS confirms */
    mtask_word next;
    do {
        int64_t count = (int64_t)(word & MTASK__GROUP_COUNT);
        if (n < -count || n > (int64_t)MTASK__GROUP_COUNT - count)
            return MTASK_OVERFLOW;
        next = word + (mtask_word)n;
        if (count + n == 0)
            next &= ~MTASK__GROUP_WAITERS;
    } while (!mtask__cas(&group->word, &word, next, ACQ_REL));
    /* release: pairs with the acquire of the waiters, for all whose done came before the last one,
       too. From here on only the address. */
    if ((word & ~next & MTASK__GROUP_WAITERS) != 0)
        mtask__wake(&group->word, INT_MAX, mtask__flags_of(word));
    return MTASK_OK;
}

MTASK_API mtask_status mtask_waitgroup_done(mtask_waitgroup *group) {
    return mtask_waitgroup_add(group, -1);
}

MTASK_API mtask_status mtask_waitgroup_wait(mtask_waitgroup *group, int64_t timeout) {
    int64_t deadline;
    mtask_word word = mtask__load(&group->word, ACQUIRE); /* pairs with mtask_waitgroup_add */
    mtask_status status = mtask__deadline(timeout, &deadline);
    if (timeout < 0)
        return status;
    while ((word & MTASK__GROUP_COUNT) != 0) {
        if (status != MTASK_OK)
            return status;
        (void)mtask__sleep_on(&group->word, word, MTASK__GROUP_WAITERS, deadline, 0, &status);
        word = mtask__load(&group->word, ACQUIRE);
    }
    return MTASK_OK;
}

MTASK_API uint32_t mtask_waitgroup_count(const mtask_waitgroup *group) {
    return mtask__load(&group->word, RELAXED) & MTASK__GROUP_COUNT; /* a hint: pairs with none */
}

/* ---- >>task ---- */

MTASK_API uint64_t mtask_task_id(void) {
    return mtask__me()->task->id;
}

MTASK_API mtask__task *mtask__task_current(void) {
    return mtask__me()->task;
}

MTASK_API void mtask__task_init(mtask__task *task, mtask__parker *parker) {
    memset(task, 0, sizeof *task);
    task->id = task->birth = mtask__next_id(mtask__me());
    task->parker = parker;
}

MTASK_API void mtask__task_renew(mtask__task *task) {
    task->id = task->birth = mtask__next_id(mtask__me());
    task->fail_status = MTASK_OK;
    task->fail_text[0] = '\0';
}

MTASK_API mtask__task *mtask__task_switch(mtask__task *task) {
    mtask__thread_self *self = mtask__me();
    mtask__task *last = self->task;
    self->task = task != NULL ? task : &self->own;
    mtask__here = self->task->host;
    return last;
}

static void mtask__fail_with(mtask_status *to, char *text, mtask_status status, const char *format,
                             va_list args) MTASK__PRINTF(4, 0);

static void mtask__fail_with(mtask_status *to, char *text, mtask_status status, const char *format,
                             va_list args) {
    int saved = errno;
    *to = status == MTASK_OK ? MTASK_FAILED : status;
    text[0] = '\0';
    if (format != NULL && vsnprintf(text, MTASK_TEXT_SIZE, format, args) < 0)
        text[0] = '\0';
    errno = saved;
}

MTASK_API void *mtask_fail(mtask_status status, const char *format, ...) {
    mtask__task *task = mtask__me()->task;
    va_list args;
    va_start(args, format);
    mtask__fail_with(&task->fail_status, task->fail_text, status, format, args);
    va_end(args);
    return MTASK__FAILURE;
}

MTASK_API mtask_status mtask_failure(mtask_outcome *outcome) {
    const mtask__task *task = mtask__me()->task;
    if (outcome != NULL) {
        outcome->status = task->fail_status;
        outcome->value = NULL;
        memcpy(outcome->text, task->fail_text, MTASK_TEXT_SIZE);
    }
    return task->fail_status;
}

MTASK_API mtask_status mtask__run(mtask_fn fn, void *arg, mtask_outcome *outcome) {
    void *value = fn(arg);
    bool failed = value == MTASK__FAILURE;
    if (outcome != NULL) {
        mtask__task *task = mtask__me()->task;
        outcome->status = failed ? task->fail_status : MTASK_OK;
        outcome->value = failed ? NULL : value;
        memcpy(outcome->text, failed ? task->fail_text : "", failed ? MTASK_TEXT_SIZE : 1);
    }
    return failed ? MTASK_FAILED : MTASK_OK;
}

/* ---- >>future ---- */

typedef struct mtask__callback {
    struct mtask__callback *next;
    void (*fn)(mtask_future *future, void *ctx);
    void *ctx;
} mtask__callback;

MTASK_API void mtask__future_init(mtask_future *future, mtask_word references) {
    memset(future, 0, sizeof *future);
    future->references = references;
}

MTASK_API mtask_status mtask_future_create(mtask_future **future, void (*free_value)(void *value)) {
    mtask_future *made = (mtask_future *)MTASK_MALLOC(sizeof *made);
    *future = made;
    if (made == NULL)
        return MTASK_NOMEM;
    mtask__future_init(made, 1);
    made->free_value = free_value;
    return MTASK_OK;
}

MTASK_API mtask_future *mtask_future_retain(mtask_future *future) {
    mtask__add(&future->references, 1, RELAXED); /* the caller's own reference keeps it alive */
    return future;
}

static bool mtask__future_ended(mtask_word word) {
    return (word & MTASK__FUTURE_STATE) >= MTASK__FUTURE_FINISHED;
}

MTASK_API void mtask_future_release(mtask_future *future) {
    mtask__callback *next;
    mtask_word word;
    if (future == NULL)
        return;
    if (mtask__load(&future->references, ACQUIRE) != 1 && /* nobody can add to the last one */
        mtask__sub(&future->references, 1, ACQ_REL) > 1)
        return; /* acq_rel: the last one sees what all the others did with it before */
    word = mtask__load(&future->word, RELAXED); /* ordered by the line above */
    if (future->free_value != NULL && future->value != NULL && (word & MTASK__FUTURE_TAKEN) == 0)
        future->free_value(future->value);
    for (mtask__callback *callback = future->callbacks; callback != NULL; callback = next) {
        next = callback->next; /* the promise was never kept */
        MTASK_FREE(callback);
    }
    MTASK_FREE(future->text);
    if (future->kind != NULL)
        future->kind->free(future);
    else
        MTASK_FREE(future);
}

/* Changes the state from one of those in the set `from` (bit 1 << state) to `to`, keeping the
   flags. Why it cannot: MTASK_CANCELED, or MTASK_INVALID. `word` receives what was there. */
static mtask_status mtask__future_move(mtask_future *future, unsigned from, mtask_word to,
                                       mtask_word *word) {
    *word = mtask__load(&future->word, RELAXED); /* a guess that the CAS confirms */
    for (;;) {
        mtask_word state = *word & MTASK__FUTURE_STATE;
        if (state ==
            MTASK__FUTURE_SETTING) { /* about to end: then it will be done for the caller */
            mtask__os_yield();
            *word = mtask__load(&future->word, ACQUIRE); /* pairs with mtask__future_finish */
        } else if ((from >> state & 1) == 0) {
            return state == MTASK__FUTURE_CANCELED ? MTASK_CANCELED : MTASK_INVALID;
        } else if (mtask__cas(&future->word, word, (*word & ~(mtask_word)MTASK__FUTURE_STATE) | to,
                              ACQ_REL)) {
            return MTASK_OK; /* release: pairs with the acquire of those who wait */
        }
    }
}

/* Those who wait, listen or left a callback learn that the future has ended. `word` is what its
   word held just before: flags set later see the end for themselves. */
static void mtask__future_announce(mtask_future *future, mtask_word word, bool failed) {
    mtask__callback *callback;
    mtask__callback *next;
    if ((word & MTASK__FUTURE_WAITERS) != 0)
        mtask__wake(&future->word, INT_MAX, MTASK__AFTER_RMW);
    if ((word & MTASK__FUTURE_LINKED) == 0)
        return; /* then it may be gone already */
    if (future->kind != NULL && future->kind->ended != NULL)
        future->kind->ended(future);
    mtask__lock(&future->lock);
    while (future->listeners != NULL) {
        mtask__listener *listener = future->listeners;
        mtask__listener_unlink(&future->listeners, listener);
        if (listener->fire != NULL)
            listener->fire(listener);
        else
            mtask__signal_fire(listener->signal, failed && listener->hasty);
    }
    callback = future->callbacks;
    future->callbacks = NULL;
    mtask__unlock(&future->lock);
    mtask_future_retain(future); /* a callback may give back the caller's reference */
    for (; callback != NULL; callback = next) {
        next = callback->next;
        callback->fn(future, callback->ctx);
        MTASK_FREE(callback);
    }
    mtask_future_release(future);
}

/* Notes the outcome. Without memory the text is lost, the status is not. */
static void mtask__future_note(mtask_future *future, mtask_status status, void *value,
                               const char *text) {
    future->status = status;
    future->value = value;
    if (text[0] != '\0') {
        size_t size = strlen(text) + 1;
        future->text = (char *)MTASK_MALLOC(size);
        if (future->text != NULL)
            memcpy(future->text, text, size);
    }
}

MTASK_API mtask_status mtask__future_finish(mtask_future *future, mtask_status status, void *value,
                                            const char *text) {
    mtask_word word;
    mtask_status moved =
        mtask__future_move(future, 1u << MTASK__FUTURE_PENDING | 1u << MTASK__FUTURE_RUNNING,
                           MTASK__FUTURE_SETTING, &word);
    if (moved != MTASK_OK)
        return moved;
    mtask__future_note(future, status, value, text);
    word = mtask__add(&future->word, MTASK__FUTURE_FINISHED - MTASK__FUTURE_SETTING, ACQ_REL);
    mtask__future_announce(future, word, status != MTASK_OK); /* release: pairs with the readers */
    return MTASK_OK;
}

MTASK_API void mtask__future_finish_own(mtask_future *future, mtask_status status, void *value,
                                        const char *text) {
    mtask_word word;
    mtask__future_note(future, status, value, text);
    word = mtask__add(&future->word, MTASK__FUTURE_FINISHED - MTASK__FUTURE_RUNNING, ACQ_REL);
    mtask__future_announce(future, word, status != MTASK_OK); /* release: pairs with the readers */
}

/* Whether only its task may end it. */
static bool mtask__future_is_owned(const mtask_future *future) {
    return future->kind != NULL && future->kind->owned;
}

MTASK_API mtask_status mtask_future_begin(mtask_future *future) {
    return mtask__future_is_owned(future) ? MTASK_INVALID : mtask__future_begin_own(future);
}

MTASK_API mtask_status mtask__future_begin_own(mtask_future *future) {
    mtask_word word;
    return mtask__future_move(future, 1u << MTASK__FUTURE_PENDING, MTASK__FUTURE_RUNNING, &word);
}

MTASK_API mtask_status mtask_future_set(mtask_future *future, void *value) {
    if (mtask__future_is_owned(future))
        return MTASK_INVALID;
    return mtask__future_finish(future, MTASK_OK, value, "");
}

MTASK_API mtask_status mtask_future_fail(mtask_future *future, mtask_status status,
                                         const char *format, ...) {
    char text[MTASK_TEXT_SIZE];
    va_list args;
    if (mtask__future_is_owned(future))
        return MTASK_INVALID;
    va_start(args, format);
    mtask__fail_with(&status, text, status, format, args);
    va_end(args);
    return mtask__future_finish(future, status, NULL, text);
}

MTASK_API mtask_status mtask__future_cancel(mtask_future *future) {
    mtask_word word;
    mtask_status status =
        mtask__future_move(future, 1u << MTASK__FUTURE_PENDING, MTASK__FUTURE_CANCELED, &word);
    if (status == MTASK_OK)
        mtask__future_announce(future, word, false);
    return status;
}

MTASK_API mtask_status mtask_future_cancel(mtask_future *future) {
    mtask_status status;
    if (future->kind != NULL && future->kind->cancel != NULL)
        status = future->kind->cancel(future);
    else
        status = mtask__future_cancel(future);
    return status == MTASK_CANCELED ? MTASK_OK : status;
}

# define MTASK__FUTURE_SPIN 160 /* pauses: about 2 microseconds */

/* Looks for a moment whether a future ends that is soon to end: two sleeping threads that hand
   short tasks to each other would pay for a wake each time. */
static mtask_word mtask__future_spin(const mtask_future *future) {
    mtask_word word = mtask__load(&future->word, ACQUIRE); /* pairs with move and finish */
    for (int n = 0; n < MTASK__FUTURE_SPIN && !mtask__future_ended(word) && mtask__spin(4); n += 4)
        word = mtask__load(&future->word, ACQUIRE);
    return word;
}

MTASK_API mtask_status mtask__future_sleep(mtask_future *future, int64_t deadline, int flags) {
    mtask_status status = MTASK_OK;
    mtask_word word = mtask__load(&future->word, ACQUIRE); /* pairs with move and finish */
    if (deadline != 0 && !mtask__future_ended(word))
        word = mtask__future_spin(future);
    while (!mtask__future_ended(word)) {
        if (status != MTASK_OK)
            return status;
        (void)mtask__sleep_on(&future->word, word, MTASK__FUTURE_WAITERS, deadline, flags, &status);
        word = mtask__load(&future->word, ACQUIRE);
    }
    return MTASK_OK;
}

/* Whether it can never end, because it is of the parent of a process that has forked. */
static bool mtask__future_is_lost(const mtask_future *future) {
    return future->kind != NULL && future->kind->is_lost != NULL && !mtask_future_done(future) &&
           future->kind->is_lost(future);
}

/* Waits for the end of a future; the host of the calling task may have to do something about it. */
static mtask_status mtask__future_await(mtask_future *future, int64_t deadline) {
    mtask__host *host = mtask__me()->task->host;
    bool forever = deadline == MTASK_FOREVER;
    mtask_status status;
    if (mtask_future_done(future))
        return MTASK_OK;
    if (mtask__future_is_lost(future))
        return MTASK_BROKEN;
    if (future->kind != NULL && future->kind->await != NULL &&
        future->kind->await(future, deadline, &status))
        return status;
    if (host == NULL || deadline == 0 || (forever && host->help(host, future)))
        return mtask__future_sleep(future, deadline, 0);
    status = host->enter(host, future, forever);
    if (status == MTASK_OK) {
        status = mtask__future_sleep(future, deadline, 0);
        host->leave(host);
    }
    return status;
}

MTASK_API mtask_status mtask__future_outcome(const mtask_future *future, mtask_outcome *outcome) {
    bool canceled =
        (mtask__load(&future->word, ACQUIRE) & MTASK__FUTURE_STATE) == MTASK__FUTURE_CANCELED;
    mtask_status status = canceled ? MTASK_CANCELED : future->status;
    if (outcome != NULL) {
        outcome->status = status;
        outcome->value = future->value;
        outcome->text[0] = '\0';
        if (future->text != NULL)
            memcpy(outcome->text, future->text, strlen(future->text) + 1);
    }
    return status == MTASK_OK || canceled ? status : MTASK_FAILED;
}

MTASK_API mtask_status mtask_future_wait(mtask_future *future, int64_t timeout) {
    int64_t deadline;
    mtask_status status = mtask__deadline(timeout, &deadline);
    return status == MTASK_OK ? mtask__future_await(future, deadline) : status;
}

MTASK_API mtask_status mtask_future_get(mtask_future *future, mtask_outcome *outcome,
                                        int64_t timeout) {
    mtask_status status = mtask_future_wait(future, timeout);
    if (status != MTASK_OK)
        return status;
    if (future->free_value != NULL && outcome != NULL)
        mtask__or(&future->word, MTASK__FUTURE_TAKEN, RELAXED); /* the release of the caller's
                                                                   reference publishes it */
    return mtask__future_outcome(future, outcome);
}

static mtask_word mtask__future_state(const mtask_future *future) {
    return mtask__load(&future->word, ACQUIRE) & MTASK__FUTURE_STATE; /* as in await */
}

MTASK_API bool mtask_future_done(const mtask_future *future) {
    return mtask__future_ended(mtask__future_state(future));
}

MTASK_API bool mtask_future_running(const mtask_future *future) {
    mtask_word state = mtask__future_state(future);
    if (state == MTASK__FUTURE_PENDING && future->kind != NULL && future->kind->runs != NULL)
        return future->kind->runs(future);
    return state == MTASK__FUTURE_RUNNING || state == MTASK__FUTURE_SETTING;
}

MTASK_API bool mtask_future_canceled(const mtask_future *future) {
    return mtask__future_state(future) == MTASK__FUTURE_CANCELED;
}

/* With its lock held: says that something is linked. False: it has ended, and nobody will look. */
static bool mtask__future_link(mtask_future *future) {
    mtask_word word = mtask__load(&future->word, ACQUIRE); /* pairs with move and finish */
    while (!mtask__future_ended(word))
        if ((word & MTASK__FUTURE_LINKED) != 0 ||
            mtask__cas(&future->word, &word, word | MTASK__FUTURE_LINKED, ACQUIRE))
            return true; /* whoever ends it sees the flag and takes the lock after us */
    return false;
}

MTASK_API mtask_status mtask_future_then(mtask_future *future,
                                         void (*fn)(mtask_future *future, void *ctx), void *ctx) {
    mtask__callback **end = &future->callbacks;
    mtask__callback *callback;
    bool linked;
    if (fn == NULL)
        return MTASK_INVALID;
    callback = (mtask__callback *)MTASK_MALLOC(sizeof *callback);
    if (callback == NULL)
        return MTASK_NOMEM;
    callback->next = NULL;
    callback->fn = fn;
    callback->ctx = ctx;
    mtask__lock(&future->lock);
    linked = mtask__future_link(future);
    if (linked) {
        while (*end != NULL)
            end = &(*end)->next;
        *end = callback;
    }
    mtask__unlock(&future->lock);
    if (!linked) {
        MTASK_FREE(callback);
        mtask_future_retain(future);
        fn(future, ctx);
        mtask_future_release(future);
    }
    return MTASK_OK;
}

static bool mtask__future_failed(const mtask_future *future) {
    return mtask__future_state(future) == MTASK__FUTURE_FINISHED && future->status != MTASK_OK;
}

MTASK_API void mtask__future_listen(mtask_future *future, mtask__listener *listener) {
    bool linked;
    mtask__lock(&future->lock);
    linked = mtask__future_link(future);
    if (linked)
        mtask__listener_link(&future->listeners, listener);
    mtask__unlock(&future->lock);
    if (!linked && listener->fire != NULL)
        listener->fire(listener);
    else if (!linked)
        mtask__signal_fire(listener->signal, listener->hasty && mtask__future_failed(future));
}

MTASK_API void mtask__future_unlisten(mtask_future *future, mtask__listener *listener) {
    mtask__lock(&future->lock);
    mtask__listener_unlink(&future->listeners, listener);
    mtask__unlock(&future->lock);
}

/* The host of the calling task lets nobody wait any more: it may run some of the futures. */
static mtask_status mtask__futures_help(mtask__host *host, mtask_future *const *futures,
                                        size_t count, mtask__signal *signal) {
    mtask_status status = MTASK_DEADLOCK;
    for (size_t i = 0; i < count && status != MTASK_OK; i++)
        if (host->help(host, futures[i]) && mtask__signal_wait(signal, 0) == MTASK_OK)
            status = MTASK_OK;
    return status;
}

/* Waits for a signal that the futures fire. */
static mtask_status mtask__futures_sleep(mtask_future *const *futures, size_t count,
                                         mtask__signal *signal, int64_t deadline) {
    mtask__host *host = mtask__me()->task->host;
    mtask_status status = mtask__signal_wait(signal, 0);
    for (size_t i = 0; i < count && status != MTASK_OK; i++)
        if (mtask__future_is_lost(futures[i]))
            return MTASK_BROKEN;
    if (status == MTASK_OK || host == NULL || deadline == 0)
        return status == MTASK_OK ? status : mtask__signal_wait(signal, deadline);
    status = host->enter(host, NULL, deadline == MTASK_FOREVER);
    if (status == MTASK_DEADLOCK)
        return mtask__futures_help(host, futures, count, signal);
    status = mtask__signal_wait(signal, deadline);
    host->leave(host);
    return status;
}

/* Waits for one after the other: on the worker of a pool, which may do what it waits for. */
static mtask_status mtask__futures_await(mtask_future *const *futures, size_t count,
                                         int64_t deadline) {
    mtask_status status = MTASK_OK;
    for (size_t i = 0; i < count && status == MTASK_OK; i++)
        status = mtask__future_await(futures[i], deadline);
    return status;
}

MTASK_API mtask_status mtask_futures_wait(mtask_future *const *futures, size_t count,
                                          mtask_wait_mode mode, int64_t timeout) {
    mtask__listener few[16];
    mtask__listener *listeners = few;
    mtask__signal signal;
    int64_t deadline;
    mtask_status status = mtask__deadline(timeout, &deadline);
    for (size_t i = 0; i < count && status == MTASK_OK; i++)
        status = futures[i] == NULL ? MTASK_INVALID : MTASK_OK;
    if ((unsigned)mode > MTASK_WAIT_FIRST_FAILURE || count >= MTASK__SIGNAL_ENOUGH ||
        count > SIZE_MAX / sizeof few[0])
        status = MTASK_INVALID;
    if (status != MTASK_OK || count == 0)
        return status;
    if (mode == MTASK_WAIT_ALL && mtask__me()->task->host != NULL)
        return mtask__futures_await(futures, count, deadline);
    if (count > sizeof few / sizeof *few)
        listeners = (mtask__listener *)MTASK_MALLOC(count * sizeof *listeners);
    if (listeners == NULL)
        return MTASK_NOMEM;
    signal.fired = 0;
    signal.target = mode == MTASK_WAIT_ANY ? 1 : (mtask_word)count;
    for (size_t i = 0; i < count; i++) {
        memset(&listeners[i], 0, sizeof listeners[i]);
        listeners[i].signal = &signal;
        listeners[i].hasty = mode == MTASK_WAIT_FIRST_FAILURE;
        mtask__future_listen(futures[i], &listeners[i]);
    }
    status = mtask__futures_sleep(futures, count, &signal, deadline);
    for (size_t i = 0; i < count; i++)
        mtask__future_unlisten(futures[i], &listeners[i]);
    if (listeners != few)
        MTASK_FREE(listeners);
    return status;
}

/* ---- >>thread ---- */

static void mtask__ring_add(mtask__thread *block) {
    mtask__thread *first;
    mtask__lock(&mtask__state.lock);
    first = mtask__state.threads;
    block->next = first != NULL ? first : block;
    block->prev = first != NULL ? first->prev : block;
    block->next->prev = block;
    block->prev->next = block;
    if (first == NULL)
        mtask__state.threads = block;
    mtask__unlock(&mtask__state.lock);
}

static void mtask__ring_remove(mtask__thread *block) {
    mtask__lock(&mtask__state.lock);
    block->info.alive = false;
    block->next->prev = block->prev;
    block->prev->next = block->next;
    if (mtask__state.threads == block)
        mtask__state.threads = block->next != block ? block->next : NULL;
    block->next = block->prev = block; /* so that a second time does no harm */
    mtask__unlock(&mtask__state.lock);
}

/* The thread has done its task. It stays in the ring until it leaves, for fork to find. */
static void mtask__thread_set_dead(mtask__thread *block) {
    mtask__lock(&mtask__state.lock);
    block->info.alive = false;
    mtask__unlock(&mtask__state.lock);
}

static void mtask__set_name(char *to, const char *name) {
    size_t length = strlen(name);
    if (length >= MTASK_NAME_SIZE)
        length = MTASK_NAME_SIZE - 1;
    memcpy(to, name, length);
    to[length] = '\0';
}

static void mtask__number_name(char *to, const char *kind) {
    unsigned number = mtask__add(&mtask__state.names, 1, RELAXED) + 1; /* only the count matters */
    (void)snprintf(to, MTASK_NAME_SIZE, "%s-%u", kind, number);
}

static mtask_thread_info mtask__thread_look(const mtask__thread *block) {
    mtask_thread_info info;
    mtask__lock(&mtask__state.lock);
    info = block->info;
    mtask__unlock(&mtask__state.lock);
    return info;
}

/* Fills in what only the thread itself knows, and shows the name that mtask gave it. */
static void mtask__thread_arrive(mtask__thread *block) {
    mtask__lock(&mtask__state.lock);
    block->handle = mtask__os_thread_self();
    block->info.native_id = mtask__os_thread_native_id();
    if (!block->info.foreign)
        mtask__os_thread_rename(block->handle, block->info.name);
    mtask__unlock(&mtask__state.lock);
}

/* Has mtask__thread_exit called when the thread ends. False: nobody will. */
static bool mtask__exit_arm(mtask__thread_self *self) {
    return mtask__state.exit_key != 0 && !self->left &&
           mtask__os_key_set(mtask__state.exit_key, self) == MTASK_OK;
}

/* A thread that mtask did not start is seen for the first time. */
static __attribute__((noinline)) void mtask__thread_enter(mtask__thread_self *self) {
    bool main = mtask__os_thread_is_main() && mtask__state.main == &mtask__state.main_block;
    mtask__thread *block = main ? &mtask__state.main_block : &self->foreign;
    int saved = errno;
    self->thread = block;
    self->task = &self->own;
    self->own.id = self->own.birth = main ? block->info.id : mtask__next_id(self);
    self->exit_seen = !mtask__exit_arm(self);
    if (!main) {
        memset(block, 0, sizeof *block);
        block->info.id = self->own.id;
        block->info.foreign = true;
        block->info.alive = true;
        mtask__number_name(block->info.name, "Dummy");
        block->next = block->prev = block;
        if (!self->exit_seen) /* otherwise nobody would take it off the list */
            mtask__ring_add(block);
    }
    mtask__thread_arrive(block);
    errno = saved;
}

static void mtask__alive_less(void) {
    mtask__sub(&mtask__state.alive, 1, SEQ_CST); /* seq_cst, here and there: either a joiner sees */
    if (mtask__load(&mtask__state.joiners, SEQ_CST) != 0) /* the count, or this sees the joiner */
        mtask__wake(&mtask__state.alive, INT_MAX, 0);
}

/* The last that a thread does with its block. Until then it keeps its task, which locks need. */
static void mtask__thread_leave(mtask__thread_self *self) {
    mtask__thread *block = self->thread;
    self->left = true;
    mtask__ring_remove(block);
    if (block->info.foreign) {
        mtask__lock(&mtask__state.lock);
        if (mtask__state.main == block) { /* it forked, and was the main thread since */
            mtask__state.main_block.info = block->info;
            mtask__state.main = &mtask__state.main_block;
        }
        mtask__unlock(&mtask__state.lock);
    } else {
        if ((mtask__or(&block->reap, MTASK__REAP_LEFT, ACQ_REL) & MTASK__REAP_WAITERS) != 0)
            mtask__wake(&block->reap, INT_MAX, 0); /* pairs with the loads in mtask__thread_reap */
        if (block->counted)
            mtask__alive_less(); /* after that: join_all is followed by joins that do not wait */
        mtask_future_release(&block->future);
    }
    self->task = NULL;
    self->thread = NULL;
}

/* The end of a thread, as the destructor of a per-thread value. Other destructors may still call
   mtask, so the first call only asks for another one, after theirs. */
static void mtask__thread_exit(void *value) {
    mtask__thread_self *self = (mtask__thread_self *)value;
    if (!self->exit_seen) {
        self->exit_seen = true;
        if (mtask__exit_arm(self))
            return;
    }
    mtask__thread_leave(self);
}

static void mtask__thread_free(mtask_future *future) {
    MTASK_FREE(future); /* the first member of its block */
}

static const mtask__future_kind mtask__thread_kind = {
    mtask__thread_free, NULL, NULL, NULL, false, NULL, NULL};

/* Runs in the new thread. */
static void mtask__thread_main(mtask__thread *block) {
    mtask_outcome outcome;
    if (mtask_future_begin(&block->future) == MTASK_OK) {
        (void)mtask__run(block->fn, block->arg, &outcome);
        mtask__thread_set_dead(block);
        (void)mtask__future_finish(&block->future, outcome.status, outcome.value, outcome.text);
    } else {
        mtask__thread_set_dead(block); /* cancelled before it ran */
    }
}

/* What the platform calls in the new thread. */
MTASK_API void mtask__thread_entry(mtask__thread *block) {
    mtask__thread_self *self = &mtask__self;
    mtask_word reap;
    self->thread = block;
    self->task = &self->own;
    self->own.id = self->own.birth = block->info.id;
    self->exit_seen = !mtask__exit_arm(self);
    mtask__thread_arrive(block);
    reap = mtask__or(&block->reap, MTASK__REAP_ARRIVED, ACQ_REL); /* pairs with the loads in reap */
    if ((reap & MTASK__REAP_SELF) != 0)
        mtask__os_thread_detach(block->handle);
    mtask__thread_main(block);
    if (self->exit_seen) /* there will be no destructor to do it */
        mtask__thread_leave(self);
}

/* Whether it is a thread of this process; after a fork, those of the parent are not. */
static bool mtask__thread_is_here(const mtask__thread *block) {
    return block->info.id >> 40 == mtask__state.nonce;
}

/* Claims the system's thread, if nobody has, once it has set the bit `ready`. */
static bool mtask__thread_claim(mtask__thread *block, mtask_word reap, mtask_word ready) {
    const mtask_word taken = MTASK__REAP_CLAIMED | MTASK__REAP_GONE | MTASK__REAP_SELF;
    while ((reap & ready) != 0 && (reap & taken) == 0)
        if (mtask__cas(&block->reap, &reap, reap | MTASK__REAP_CLAIMED, ACQ_REL))
            return true; /* acquire: pairs with the arrival, which published the handle */
    return false;
}

static void mtask__thread_gone(mtask__thread *block) {
    mtask_word reap = mtask__or(&block->reap, MTASK__REAP_GONE, ACQ_REL);
    if ((reap & MTASK__REAP_WAITERS) != 0) /* release: pairs with the loads of those who wait */
        mtask__wake(&block->reap, INT_MAX, 0);
}

/* Returns when the system's thread is gone, or is not to be joined. To wait for this, and not first
   for the future, saves a wake. */
static mtask_status mtask__thread_reap(mtask__thread *block, int64_t deadline) {
    mtask_status status = MTASK_OK;
    mtask_word reap = mtask__load(&block->reap, ACQUIRE); /* pairs with mtask__thread_gone */
    while ((reap & (MTASK__REAP_GONE | MTASK__REAP_SELF)) == 0 && mtask__thread_is_here(block)) {
        if (mtask__thread_claim(block, reap, MTASK__REAP_LEFT)) {
            mtask__os_thread_join(block->handle);
            mtask__thread_gone(block);
        } else if (status != MTASK_OK) {
            return status;
        } else {
            (void)mtask__sleep_on(&block->reap, reap, MTASK__REAP_WAITERS, deadline, 0, &status);
        }
        reap = mtask__load(&block->reap, ACQUIRE);
    }
    return MTASK_OK;
}

/* Lets go of the system's thread; if it has not arrived yet, it will do so itself. */
static void mtask__thread_let_go(mtask__thread *block) {
    mtask_word reap = mtask__load(&block->reap, ACQUIRE); /* pairs with its arrival */
    while ((reap & MTASK__REAP_ARRIVED) == 0)
        if (mtask__cas(&block->reap, &reap, reap | MTASK__REAP_SELF, ACQUIRE))
            return;
    if (mtask__thread_is_here(block) && mtask__thread_claim(block, reap, MTASK__REAP_ARRIVED)) {
        mtask__os_thread_detach(block->handle);
        mtask__thread_gone(block);
    }
}

static mtask__thread *mtask__thread_make(const mtask_thread_desc *desc, mtask_word references) {
    mtask__thread *block = (mtask__thread *)MTASK_MALLOC(sizeof *block);
    if (block == NULL)
        return NULL;
    memset(block, 0, sizeof *block);
    mtask__future_init(&block->future, references);
    block->future.kind = &mtask__thread_kind;
    block->fn = desc->fn;
    block->arg = desc->arg;
    block->info.id = mtask__next_id(mtask__me());
    block->info.alive = true;
    block->info.daemon = desc->daemon;
    block->counted = !desc->daemon;
    if (desc->name != NULL)
        mtask__set_name(block->info.name, desc->name);
    else
        mtask__number_name(block->info.name, "Thread");
    return block;
}

/* Starts a thread that the caller's references, if any, keep track of. */
static mtask_status mtask__thread_launch(const mtask_thread_desc *desc, bool handle,
                                         mtask__thread **started) {
    mtask_word references = 1 + (handle ? 1u : 0u) + (desc->future != NULL ? 1u : 0u);
    mtask__thread *block = mtask__thread_make(desc, references);
    mtask_status status;
    if (block == NULL)
        return MTASK_NOMEM;
    block->reap = handle ? 0 : MTASK__REAP_GONE; /* a detached thread needs nobody */
    if (block->counted)
        mtask__add(&mtask__state.alive, 1, SEQ_CST);
    mtask__ring_add(block);
    if (desc->future != NULL)
        *desc->future = &block->future;
    *started = block;
    status = mtask__os_thread_start(block, desc, !handle);
    if (status == MTASK_OK)
        return MTASK_OK;
    mtask__ring_remove(block);
    if (block->counted)
        mtask__alive_less();
    if (desc->future != NULL)
        *desc->future = NULL;
    mtask__thread_gone(block);
    (void)mtask__future_finish(&block->future, status, NULL, ""); /* somebody may have attached */
    while (references-- > 0)
        mtask_future_release(&block->future);
    *started = NULL;
    return status;
}

MTASK_API mtask_status mtask_thread_start_ex(mtask_thread *thread, const mtask_thread_desc *desc) {
    mtask__thread *block = NULL;
    mtask_status status;
    if (desc == NULL || desc->fn == NULL || (desc->cpus == NULL && desc->cpu_count > 0))
        return MTASK_INVALID;
    if (thread == NULL)
        return mtask__thread_launch(desc, false, &block);
    mtask__lock(&thread->lock);
    status = MTASK_INVALID;
    if (thread->block == NULL) {
        status = mtask__thread_launch(desc, true, &block);
        if (status == MTASK_OK) {
            thread->block = block;
            thread->info = mtask__thread_look(block);
        }
    }
    mtask__unlock(&thread->lock);
    return status;
}

MTASK_API mtask_status mtask_thread_start(mtask_thread *thread, mtask_fn fn, void *arg) {
    mtask_thread_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.fn = fn;
    desc.arg = arg;
    return thread == NULL ? MTASK_INVALID : mtask_thread_start_ex(thread, &desc);
}

MTASK_API mtask_status mtask_thread_spawn(mtask_fn fn, void *arg) {
    mtask_thread_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.fn = fn;
    desc.arg = arg;
    return mtask_thread_start_ex(NULL, &desc);
}

/* The handle's block with a reference of its own; NULL if it has none. */
static mtask__thread *mtask__thread_hold(mtask_thread *thread) {
    mtask__thread *block;
    mtask__lock(&thread->lock);
    block = thread->block;
    if (block != NULL) {
        mtask_future_retain(&block->future);
        thread->info = mtask__thread_look(block);
    }
    mtask__unlock(&thread->lock);
    return block;
}

static void mtask__thread_unhold(mtask__thread *block) {
    if (block != NULL)
        mtask_future_release(&block->future);
}

/* Takes the outcome into the handle, which lets go of the thread. */
static void mtask__thread_settle(mtask_thread *thread, mtask__thread *block) {
    bool mine;
    mtask__lock(&thread->lock);
    mine = thread->block == block;
    if (mine) {
        thread->block = NULL;
        thread->info = mtask__thread_look(block);
        thread->joined = mtask__future_outcome(&block->future, &thread->outcome);
    }
    mtask__unlock(&thread->lock);
    if (mine)
        mtask__thread_unhold(block);
}

/* A handle without a thread: joined before, or not. */
static mtask_status mtask__thread_joined(mtask_thread *thread, mtask_outcome *outcome) {
    mtask_status status = MTASK_INVALID;
    mtask__lock(&thread->lock);
    if (thread->info.id != 0) {
        status = thread->joined;
        if (outcome != NULL)
            *outcome = thread->outcome;
    }
    mtask__unlock(&thread->lock);
    return status;
}

MTASK_API mtask_status(mtask_thread_join)(mtask_thread *thread, mtask_outcome *outcome,
                                          int64_t timeout) {
    int64_t deadline;
    mtask__thread *block;
    mtask_status status = mtask__deadline(timeout, &deadline);
    if (status != MTASK_OK)
        return status;
    block = mtask__thread_hold(thread);
    if (block == NULL)
        return mtask__thread_joined(thread, outcome);
    if (block == mtask__me()->thread)
        status = MTASK_DEADLOCK;
    else
        status = mtask__thread_reap(block, deadline);
    if (status == MTASK_OK)
        status = mtask__future_await(&block->future, deadline);
    if (status == MTASK_OK) {
        mtask__thread_settle(thread, block);
        status = mtask__future_outcome(&block->future, outcome);
    }
    mtask__thread_unhold(block);
    return status;
}

MTASK_API mtask_status mtask_thread_detach(mtask_thread *thread) {
    mtask__thread *block;
    mtask__lock(&thread->lock);
    block = thread->block;
    thread->block = NULL;
    if (block != NULL)
        thread->info.id = 0;
    mtask__unlock(&thread->lock);
    if (block == NULL)
        return MTASK_INVALID;
    mtask__thread_let_go(block);
    mtask__thread_unhold(block);
    return MTASK_OK;
}

MTASK_API bool mtask_thread_is_alive(mtask_thread *thread) {
    mtask__thread *block = mtask__thread_hold(thread);
    bool alive = block != NULL && !mtask_future_done(&block->future);
    mtask__thread_unhold(block);
    return alive;
}

MTASK_API uint64_t mtask_thread_id(mtask_thread *thread) {
    uint64_t id;
    mtask__lock(&thread->lock);
    id = thread->block != NULL ? mtask__thread_look(thread->block).id : thread->info.id;
    mtask__unlock(&thread->lock);
    return id;
}

MTASK_API const char *mtask_thread_name(mtask_thread *thread) {
    mtask__thread_unhold(mtask__thread_hold(thread));
    return thread->info.name;
}

MTASK_API mtask_status mtask_thread_set_name(mtask_thread *thread, const char *name) {
    mtask__thread *block = NULL;
    if (name != NULL)
        block = thread != NULL ? mtask__thread_hold(thread) : mtask__me()->thread;
    if (block == NULL)
        return MTASK_INVALID;
    mtask__lock(&mtask__state.lock);
    mtask__set_name(block->info.name, name);
    if (block->info.alive && block->info.native_id != 0) /* otherwise it does so when it arrives */
        mtask__os_thread_rename(block->handle, block->info.name);
    mtask__unlock(&mtask__state.lock);
    if (thread != NULL)
        mtask__thread_unhold(block);
    return MTASK_OK;
}

MTASK_API mtask_thread_info mtask_thread_current(void) {
    return mtask__thread_look(mtask__me()->thread);
}

MTASK_API mtask_thread_info mtask_thread_main(void) {
    (void)mtask__me(); /* initialises what follows */
    return mtask__thread_look(mtask__state.main);
}

MTASK_API mtask_status mtask_thread_enumerate(mtask_thread_info *infos, size_t capacity,
                                              size_t *count) {
    size_t found = 0;
    const mtask__thread *block;
    (void)mtask__me();
    mtask__lock(&mtask__state.lock);
    block = mtask__state.threads;
    if (block != NULL) {
        do {
            if (block->info.alive && found++ < capacity)
                infos[found - 1] = block->info;
            block = block->next;
        } while (block != mtask__state.threads);
    }
    mtask__unlock(&mtask__state.lock);
    if (count != NULL)
        *count = found;
    return found > capacity ? MTASK_OVERFLOW : MTASK_OK;
}

MTASK_API size_t mtask_thread_active_count(void) {
    size_t count;
    (void)mtask_thread_enumerate(NULL, 0, &count);
    return count;
}

/* With the ring locked: the block of a live thread, by its number; NULL if there is none. */
static mtask__thread *mtask__thread_find(uint64_t id) {
    mtask__thread *block = mtask__state.threads;
    if (block == NULL)
        return NULL;
    do {
        if (block->info.id == id && block->info.alive)
            return block;
        block = block->next;
    } while (block != mtask__state.threads);
    return NULL;
}

MTASK_API mtask_status mtask_thread_attach(mtask_thread *thread, uint64_t id) {
    mtask_status status = MTASK_NOT_FOUND;
    mtask__thread *block;
    (void)mtask__me();
    mtask__lock(&thread->lock);
    mtask__lock(&mtask__state.lock);
    block = mtask__thread_find(id);
    if (thread->block != NULL || (block != NULL && block->info.foreign))
        status = MTASK_INVALID;
    else if (block != NULL) {
        mtask_future_retain(&block->future);
        thread->block = block;
        thread->info = block->info;
        status = MTASK_OK;
    }
    mtask__unlock(&mtask__state.lock);
    mtask__unlock(&thread->lock);
    return status;
}

MTASK_API mtask_status mtask_thread_join_all(int64_t timeout) {
    int64_t deadline;
    const mtask__thread *own = mtask__me()->thread;
    mtask_word myself = own->counted ? 1 : 0;
    mtask_status status = mtask__deadline(timeout, &deadline);
    if (status != MTASK_OK)
        return status;
    mtask__add(&mtask__state.joiners, 1, SEQ_CST); /* pairs with mtask__alive_less */
    for (;;) {
        mtask_word alive = mtask__load(&mtask__state.alive, SEQ_CST);
        if (alive <= myself || status != MTASK_OK)
            status = alive <= myself ? MTASK_OK : status;
        else {
            status = mtask__wait(&mtask__state.alive, alive, deadline, 0);
            continue;
        }
        break;
    }
    mtask__sub(&mtask__state.joiners, 1, SEQ_CST);
    return status;
}

/* ---- >>local ---- */

MTASK_API mtask_status mtask_local_init(mtask_local *local, void (*destructor)(void *value)) {
    if (local->key != 0)
        return MTASK_INVALID;
    return mtask__os_key_create(&local->key, destructor);
}

MTASK_API mtask_status mtask_local_deinit(mtask_local *local) {
    if (local->key == 0)
        return MTASK_INVALID;
    mtask__os_key_delete(local->key);
    local->key = 0;
    return MTASK_OK;
}

MTASK_API void *mtask_local_get(const mtask_local *local) {
    return local->key != 0 ? mtask__os_key_get(local->key) : NULL;
}

MTASK_API mtask_status mtask_local_set(mtask_local *local, void *value) {
    return local->key != 0 ? mtask__os_key_set(local->key, value) : MTASK_INVALID;
}

/* ---- >>timer ---- */

/* A pairing heap of the timers themselves (Fredman, Sedgewick, Sleator, Tarjan 1986): no memory to
   allocate, constant time to add, logarithmic to take out. `prev` of a first child is its parent.
 */
static mtask_timer *mtask__heap_meld(mtask_timer *a, mtask_timer *b) {
    mtask_timer *child;
    if (a == NULL || b == NULL)
        return a != NULL ? a : b;
    child = a->deadline <= b->deadline ? b : a;
    a = child == b ? a : b;
    child->next = a->child;
    child->prev = a;
    if (a->child != NULL)
        a->child->prev = child;
    a->child = child;
    return a;
}

/* Melds a list of siblings into one heap: pairs from left to right, then all from right to left. */
static mtask_timer *mtask__heap_merge(mtask_timer *first) {
    mtask_timer *pairs = NULL;
    mtask_timer *heap = NULL;
    while (first != NULL) {
        mtask_timer *second = first->next;
        mtask_timer *rest = second != NULL ? second->next : NULL;
        first->next = first->prev = NULL;
        if (second != NULL)
            second->next = second->prev = NULL;
        first = mtask__heap_meld(first, second);
        first->next = pairs;
        pairs = first;
        first = rest;
    }
    while (pairs != NULL) {
        mtask_timer *next = pairs->next;
        pairs->next = NULL;
        heap = mtask__heap_meld(pairs, heap);
        pairs = next;
    }
    return heap;
}

static void mtask__heap_remove(mtask_timer **root, mtask_timer *timer) {
    mtask_timer *children = mtask__heap_merge(timer->child);
    if (timer == *root)
        *root = children;
    else {
        if (timer->prev->child == timer)
            timer->prev->child = timer->next;
        else
            timer->prev->next = timer->next;
        if (timer->next != NULL)
            timer->next->prev = timer->prev;
        *root = mtask__heap_meld(*root, children);
    }
    timer->child = timer->next = timer->prev = NULL;
}

/* Runs the earliest timer; with the lock held on entry and on return. The timer may be freed by its
   own function, so nothing is read of it afterwards. False: the function forked, and this is the
   child, which starts a timer thread of its own when it needs one. */
static bool mtask__timer_fire(mtask_timer *timer) {
    mtask__process *state = &mtask__state;
    mtask_fn fn = timer->fn;
    void *arg = timer->arg;
    mtask__heap_remove(&state->timers, timer);
    mtask__store(&timer->pending, 0, RELAXED); /* under the lock; is_pending is a hint */
    state->running = timer;
    mtask__unlock(&state->timer_lock);
    (void)mtask__run(fn, arg, NULL);
    mtask__lock(&state->timer_lock);
    if (state->timer_task != mtask_task_id())
        return false;
    state->running = NULL;
    mtask__add(&state->timer_runs, 1, RELEASE); /* pairs with the acquire in mtask_timer_cancel */
    mtask__wake(&state->timer_runs, INT_MAX, 0);
    mtask__alive_less();
    return true;
}

/* The timer thread. Starts and cancels change timer_signal under the lock, so what it saw of the
   heap is still so while it sleeps on the old value. */
static void *mtask__timer_loop(void *arg) {
    mtask__process *state = &mtask__state;
    mtask__lock(&state->timer_lock);
    for (;;) {
        mtask_timer *first = state->timers;
        int64_t deadline = first != NULL ? first->deadline : MTASK_FOREVER;
        mtask_word signal = mtask__load(&state->timer_signal, RELAXED); /* changed under the lock */
        if (first != NULL && mtask_now() >= deadline) {
            if (!mtask__timer_fire(first))
                break;
            continue;
        }
        mtask__unlock(&state->timer_lock);
        if (mtask__wait(&state->timer_signal, signal, deadline, MTASK__NOPARK) == MTASK_SYSTEM)
            mtask__os_yield(); /* the kernel refused to let it sleep */
        mtask__lock(&state->timer_lock);
    }
    mtask__unlock(&state->timer_lock);
    return arg;
}

/* With the lock held: starts the timer thread if there is none. */
static mtask_status mtask__timer_thread(void) {
    mtask_thread_desc desc;
    mtask__thread *block;
    mtask_status status;
    if (mtask__state.timer_task != 0)
        return MTASK_OK;
    memset(&desc, 0, sizeof desc);
    desc.fn = mtask__timer_loop;
    desc.name = "mtask-timers";
    desc.daemon = true;
    status = mtask__thread_launch(&desc, false, &block);
    if (status == MTASK_OK) { /* it never ends, so the block stays */
        mtask__state.timer_task = block->info.id;
        block->counted = true; /* for mtask_thread_join_all in a timer's function: that timer */
    }
    return status;
}

MTASK_API mtask_status mtask_timer_start(mtask_timer *timer, int64_t delay, mtask_fn fn,
                                         void *arg) {
    mtask__process *state = &mtask__state;
    int64_t deadline;
    mtask_status status = mtask__deadline(delay, &deadline);
    if (status != MTASK_OK || fn == NULL)
        return status != MTASK_OK ? status : MTASK_INVALID;
    (void)mtask__me();
    mtask__lock(&state->timer_lock);
    status = mtask_timer_is_pending(timer) ? MTASK_INVALID : mtask__timer_thread();
    if (status == MTASK_OK) {
        timer->deadline = deadline;
        timer->fn = fn;
        timer->arg = arg;
        timer->child = timer->next = timer->prev = NULL;
        mtask__store(&timer->pending, 1, RELAXED); /* under the lock; is_pending is a hint */
        mtask__add(&state->alive, 1, SEQ_CST);
        state->timers = mtask__heap_meld(state->timers, timer);
        if (state->timers == timer) {
            mtask__add(&state->timer_signal, 1, RELAXED); /* the lock publishes the rest */
            mtask__wake(&state->timer_signal, 1, 0);
        }
    }
    mtask__unlock(&state->timer_lock);
    return status;
}

/* With the lock held: takes a pending timer out. */
static bool mtask__timer_remove(mtask_timer *timer) {
    if (!mtask_timer_is_pending(timer))
        return false;
    mtask__heap_remove(&mtask__state.timers, timer);
    mtask__store(&timer->pending, 0, RELAXED); /* under the lock; is_pending is a hint */
    mtask__alive_less();
    return true;
}

/* With the lock held: lets go of it until a timer function has returned, or the time is up. */
static mtask_status mtask__timer_await(int64_t deadline) {
    mtask__process *state = &mtask__state;
    mtask_word runs = mtask__load(&state->timer_runs, RELAXED); /* changed under the lock */
    mtask_status status;
    mtask__unlock(&state->timer_lock);
    status = mtask__wait(&state->timer_runs, runs, deadline, 0);
    mtask__lock(&state->timer_lock);
    return status;
}

MTASK_API mtask_status mtask_timer_cancel(mtask_timer *timer, int64_t timeout) {
    mtask__process *state = &mtask__state;
    int64_t deadline;
    bool removed;
    mtask_status status = mtask__deadline(timeout, &deadline);
    if (status != MTASK_OK)
        return status;
    (void)mtask__me();
    mtask__lock(&state->timer_lock);
    removed = mtask__timer_remove(timer);
    if (state->running == timer && mtask_task_id() == state->timer_task)
        status = MTASK_DEADLOCK; /* or MTASK_OK, if it had started itself again */
    while (status == MTASK_OK && state->running == timer) {
        status = mtask__timer_await(deadline);
        if (state->running != timer)
            status = MTASK_OK;
        removed = mtask__timer_remove(timer) || removed; /* it may have started itself again */
    }
    mtask__unlock(&state->timer_lock);
    if (status == MTASK_OK || status == MTASK_DEADLOCK)
        return removed ? MTASK_OK : status == MTASK_OK ? MTASK_DONE : MTASK_DEADLOCK;
    return status;
}

MTASK_API bool mtask_timer_is_pending(const mtask_timer *timer) {
    return mtask__load(&timer->pending, RELAXED) != 0; /* a hint, or under the lock */
}

/* ---- >>fork ---- */

MTASK_API mtask_word mtask__nonce(void) {
    (void)mtask__me(); /* initialises it */
    return mtask__state.nonce;
}

MTASK_API void mtask__at_fork(mtask_word *watched, void (*prepare)(void), void (*parent)(void),
                              void (*child)(void)) {
    if (mtask__load(watched, ACQUIRE) != 0) /* pairs with the store below */
        return;
    (void)mtask__me(); /* whose own handlers are to be the first registered */
    mtask__lock(&mtask__state.fork_lock);
    if (mtask__load(watched, RELAXED) == 0)
        mtask__os_at_fork(prepare, parent, child);
    mtask__store(watched, 1, RELEASE);
    mtask__unlock(&mtask__state.fork_lock);
}

MTASK_API void mtask__fork_begin(void) {
    (void)mtask__me();
    mtask__lock(&mtask__state.fork_lock);
}

MTASK_API void mtask__fork_end(void) {
    mtask__unlock(&mtask__state.fork_lock);
}

/* Around a fork the locks that mtask holds only briefly are taken, so that the child finds its
   lists whole; locks of the parking table are simply made anew, with the table. */
static void mtask__fork_prepare(void) {
    (void)mtask__me(); /* while it can still take the locks */
    mtask__lock(&mtask__state.timer_lock);
    mtask__lock(&mtask__state.lock);
    mtask__debug_fork_prepare();
}

static void mtask__fork_parent(void) {
    mtask__debug_fork_parent();
    mtask__unlock(&mtask__state.lock);
    mtask__unlock(&mtask__state.timer_lock);
}

/* In the child: a thread of the parent, of which only the memory is left. Its joiners get
   MTASK_BROKEN. */
static void mtask__fork_bury(mtask__thread *block) {
    mtask_word state = block->future.word & MTASK__FUTURE_STATE;
    block->info.alive = false;
    block->reap = MTASK__REAP_GONE;
    memset(&block->future.lock, 0, sizeof block->future.lock);
    if (state < MTASK__FUTURE_FINISHED) {
        block->future.status = MTASK_BROKEN;
        block->future.value = NULL;
        block->future.word += MTASK__FUTURE_FINISHED - state;
    }
    if (block != &mtask__state.main_block && !block->info.foreign)
        mtask_future_release(&block->future);
}

static void mtask__fork_bury_all(const mtask__thread *survivor) {
    mtask__thread *block = mtask__state.threads;
    mtask__thread *next;
    mtask__state.threads = NULL;
    if (block != NULL)
        block->prev->next = NULL; /* cuts the ring open */
    for (; block != NULL; block = next) {
        next = block->next;
        if (block != survivor)
            mtask__fork_bury(block);
    }
}

/* In the child: the thread that called fork is the main thread now, of which there is always a
   block. */
static void mtask__fork_survive(mtask__thread *survivor, uint64_t id) {
    survivor->info.id = id;
    survivor->info.native_id = mtask__os_thread_native_id();
    survivor->info.main = true;
    survivor->next = survivor->prev = survivor;
    if (!survivor->info.foreign)
        mtask_future_retain(&survivor->future);
    mtask__state.threads = survivor;
    mtask__state.main = survivor;
}

/* In the child: the timers are the parent's, and so is their thread. */
static void mtask__fork_timers(void) {
    mtask__process *state = &mtask__state;
    while (state->timers != NULL) {
        mtask_timer *timer = state->timers;
        mtask__heap_remove(&state->timers, timer);
        timer->pending = 0;
    }
    state->running = NULL;
    state->timer_task = 0;
}

static void mtask__fork_child(void) {
    mtask__process *state = &mtask__state;
    mtask__thread_self *self = mtask__me();
    mtask__thread *survivor = self->thread;
    uint64_t parents = self->own.id;
    state->nonce = mtask__os_nonce();
    self->own.id = (parents & MTASK__SERIAL) | (uint64_t)state->nonce << 40;
    self->task = &self->own; /* loops and pools of the parent are not the child's */
    mtask__here = NULL;
    mtask__fork_bury_all(survivor);
    mtask__fork_survive(survivor, self->own.id);
    mtask__fork_timers();
    survivor->counted = false;
    mtask__store(&state->alive, 0, RELAXED); /* there is one thread: pairs with none */
    mtask__store(&state->joiners, 0, RELAXED);
    mtask__debug_fork_child(parents, self->own.id);
    if (state->parked != 0)
        memset(state->buckets, 0, sizeof state->buckets);
    state->parked = 0;
    mtask__store(&state->fork_lock.word, 0, RELAXED);
    mtask__store(&state->lock.word, 0, RELAXED); /* held since mtask__fork_prepare */
    mtask__store(&state->timer_lock.word, 0, RELAXED);
}

/* ---- >>debug ---- */

# if MTASK_DEBUG

/* A lock that somebody holds, or that has a name. */
typedef struct mtask__owned {
    struct mtask__owned *next;
    const void *lock;
    const char *name;
    uint64_t owner; /* task; 0: nobody */
    const char *file;
    int line;
    bool shared; /* between processes: a forked child does not own it */
} mtask__owned;

/* A task that waits without a timeout; on its stack. */
typedef struct mtask__blocked {
    struct mtask__blocked *next;
    uint64_t task;
    char thread[MTASK_NAME_SIZE];
    const void *lock; /* what it waits for: a lock, */
    uint64_t joins;   /* or the end of this thread */
    char joined[MTASK_NAME_SIZE];
    const char *file;
    int line;
} mtask__blocked;

enum { MTASK__CYCLE_MAX = 16, MTASK__REPORT_SIZE = 4096 };

MTASK_API mtask_status mtask_debug_on_deadlock(void (*hook)(const mtask_deadlock *report,
                                                            void *ctx),
                                               void *ctx) {
    mtask__lock(&mtask__state.debug_lock);
    mtask__state.deadlock_hook = hook;
    mtask__state.deadlock_ctx = ctx;
    mtask__unlock(&mtask__state.debug_lock);
    return MTASK_OK;
}

/* With the lock held: the place of a lock's entry in the list, or the end of the list. */
static mtask__owned **mtask__owned_find(const void *lock) {
    mtask__owned **place = &mtask__state.owned;
    while (*place != NULL && (*place)->lock != lock)
        place = &(*place)->next;
    return place;
}

/* With the lock held: a lock's entry, made if need be; NULL without memory. */
static mtask__owned *mtask__owned_get(const void *lock) {
    mtask__owned **place = mtask__owned_find(lock);
    if (*place == NULL) {
        *place = (mtask__owned *)MTASK_MALLOC(sizeof **place);
        if (*place != NULL) {
            memset(*place, 0, sizeof **place);
            (*place)->lock = lock;
        }
    }
    return *place;
}

static uint64_t mtask__owner_of(const void *lock) {
    uint64_t owner;
    mtask__owned *owned;
    mtask__lock(&mtask__state.debug_lock);
    owned = *mtask__owned_find(lock);
    owner = owned != NULL ? owned->owner : 0;
    mtask__unlock(&mtask__state.debug_lock);
    return owner;
}

MTASK_API mtask_status mtask_debug_name(const void *lock, const char *name) {
    mtask__owned *owned;
    mtask__lock(&mtask__state.debug_lock);
    owned = mtask__owned_get(lock);
    if (owned != NULL)
        owned->name = name;
    mtask__unlock(&mtask__state.debug_lock);
    return owned != NULL ? MTASK_OK : MTASK_NOMEM;
}

/* The caller has got the lock. Without memory it is not remembered. */
static void mtask__debug_acquired(const void *lock, const mtask_mutex *mutex, const char *file,
                                  int line) {
    uint64_t task = mtask_task_id();
    mtask__owned *owned;
    mtask__lock(&mtask__state.debug_lock);
    owned = mtask__owned_get(lock);
    if (owned != NULL) {
        owned->owner = task;
        owned->shared = (mtask__load(&mutex->word, RELAXED) & MTASK__SHARED) != 0; /* constant */
        owned->file = file;
        owned->line = line;
    }
    mtask__unlock(&mtask__state.debug_lock);
}

/* The lock is about to be let go of: before it is, so that no cycle is seen that is none. */
static void mtask__debug_release(const void *lock) {
    mtask__owned **place;
    mtask__owned *owned;
    mtask__lock(&mtask__state.debug_lock);
    place = mtask__owned_find(lock);
    owned = *place;
    if (owned != NULL) {
        owned->owner = 0;
        if (owned->name == NULL) {
            *place = owned->next;
            MTASK_FREE(owned);
        }
    }
    mtask__unlock(&mtask__state.debug_lock);
}

/* With the lock held: what a task waits for; NULL: nothing. */
static const mtask__blocked *mtask__blocked_find(uint64_t task) {
    const mtask__blocked *blocked = mtask__state.blocked;
    while (blocked != NULL && blocked->task != task)
        blocked = blocked->next;
    return blocked;
}

/* With the lock held: describes the step from a waiting task to the one it waits for, and returns
   that one's number; 0 if nobody holds what it waits for. */
static uint64_t mtask__debug_step(const mtask__blocked *blocked, mtask_deadlock_edge *edge) {
    const mtask__owned *owned;
    memset(edge, 0, sizeof *edge);
    edge->task = blocked->task;
    edge->file = blocked->file;
    edge->line = blocked->line;
    memcpy(edge->thread, blocked->thread, sizeof edge->thread);
    if (blocked->joins != 0) {
        (void)snprintf(edge->waits_for, sizeof edge->waits_for, "thread %.*s", MTASK_NAME_SIZE - 8,
                       blocked->joined);
        return blocked->joins;
    }
    owned = *mtask__owned_find(blocked->lock);
    if (owned == NULL || owned->owner == 0)
        return 0;
    if (owned->name != NULL)
        mtask__set_name(edge->waits_for, owned->name);
    else
        (void)snprintf(edge->waits_for, sizeof edge->waits_for, "lock %p", blocked->lock);
    edge->held_file = owned->file;
    edge->held_line = owned->line;
    return owned->owner;
}

/* With the lock held: follows who waits for whom from `mine` on; the length of the cycle that leads
   back to it, 0 if there is none. */
static size_t mtask__debug_cycle(const mtask__blocked *mine, mtask_deadlock_edge *edges) {
    const mtask__blocked *blocked = mine;
    for (size_t length = 0; length < MTASK__CYCLE_MAX; length++) {
        uint64_t holder = mtask__debug_step(blocked, &edges[length]);
        if (holder == mine->task)
            return length + 1;
        blocked = holder != 0 ? mtask__blocked_find(holder) : NULL;
        if (blocked == NULL)
            return 0;
    }
    return 0;
}

static void mtask__debug_text(char *text, size_t size, const mtask_deadlock *report) {
    size_t used = 0;
    for (size_t i = 0; i < report->count && used < size; i++) {
        const mtask_deadlock_edge *edge = &report->edges[i];
        const mtask_deadlock_edge *holder = &report->edges[(i + 1) % report->count];
        int n = snprintf(text + used, size - used, "%s waits at %s:%d for %s", edge->thread,
                         edge->file, edge->line, edge->waits_for);
        used += n > 0 ? (size_t)n : 0;
        if (used < size && edge->held_file != NULL) {
            n = snprintf(text + used, size - used, ", which %s locked at %s:%d", holder->thread,
                         edge->held_file, edge->held_line);
            used += n > 0 ? (size_t)n : 0;
        }
        if (used + 1 < size) {
            text[used++] = '\n';
            text[used] = '\0';
        }
    }
}

static void mtask__debug_report(const mtask_deadlock_edge *edges, size_t count, bool refused) {
    char text[MTASK__REPORT_SIZE] = "";
    mtask_deadlock report;
    void (*hook)(const mtask_deadlock *, void *);
    void *ctx;
    mtask__lock(&mtask__state.debug_lock);
    hook = mtask__state.deadlock_hook;
    ctx = mtask__state.deadlock_ctx;
    mtask__unlock(&mtask__state.debug_lock);
    if (hook == NULL)
        return;
    report.edges = edges;
    report.count = count;
    report.refused = refused;
    report.text = text;
    mtask__debug_text(text, sizeof text, &report);
    hook(&report, ctx);
}

/* The caller is about to wait, without a timeout, for a lock or a thread. Looks for a cycle,
   reports it, and if `refuse` is set answers MTASK_DEADLOCK; otherwise enters it into the list of
   those who wait. Since an owner is noted before it waits for the next lock, whoever closes a cycle
   sees the whole of it. */
static mtask_status mtask__debug_block(mtask__blocked *blocked, bool refuse) {
    mtask_deadlock_edge edges[MTASK__CYCLE_MAX];
    size_t count;
    mtask_thread_info info = mtask_thread_current();
    blocked->task = mtask_task_id();
    memcpy(blocked->thread, info.name, sizeof blocked->thread);
    mtask__lock(&mtask__state.debug_lock);
    count = mtask__debug_cycle(blocked, edges);
    refuse = refuse && count > 0;
    if (!refuse) {
        blocked->next = mtask__state.blocked;
        mtask__state.blocked = blocked;
    }
    mtask__unlock(&mtask__state.debug_lock);
    if (count > 0)
        mtask__debug_report(edges, count, refuse);
    return refuse ? MTASK_DEADLOCK : MTASK_OK;
}

static void mtask__debug_unblock(mtask__blocked *blocked) {
    mtask__blocked **place = &mtask__state.blocked;
    mtask__lock(&mtask__state.debug_lock);
    while (*place != NULL && *place != blocked)
        place = &(*place)->next;
    if (*place != NULL)
        *place = blocked->next;
    mtask__unlock(&mtask__state.debug_lock);
}

static mtask__blocked mtask__blocked_on(const void *lock, const char *file, int line) {
    mtask__blocked blocked;
    memset(&blocked, 0, sizeof blocked);
    blocked.lock = lock;
    blocked.file = file;
    blocked.line = line;
    return blocked;
}

/* Locks a mutex that belongs to `lock`: itself, or a rmutex. */
static mtask_status mtask__debug_lock(const void *lock, mtask_mutex *mutex, int64_t timeout,
                                      bool refuse, const mtask__blocked *where) {
    mtask__blocked blocked = *where;
    mtask_status status;
    if (timeout < 0)
        return MTASK_INVALID;
    status = (mtask_mutex_lock_for)(mutex, MTASK_NOWAIT);
    if (status == MTASK_TIMEOUT && timeout == MTASK_FOREVER) {
        status = mtask__debug_block(&blocked, refuse);
        if (status != MTASK_OK)
            return status;
        status = (mtask_mutex_lock)(mutex);
        mtask__debug_unblock(&blocked);
    } else if (status == MTASK_TIMEOUT && timeout != MTASK_NOWAIT) {
        if (refuse && mtask__owner_of(lock) == mtask_task_id())
            return MTASK_DEADLOCK;
        status = (mtask_mutex_lock_for)(mutex, timeout);
    }
    if (status == MTASK_OK)
        mtask__debug_acquired(lock, mutex, where->file, where->line);
    return status;
}

static bool mtask__debug_is_checked(const mtask_mutex *mutex) {
    return (mtask__load(&mutex->word, RELAXED) & MTASK__CHECKED) !=
           0; /* never changes after init */
}

MTASK_API mtask_status mtask__mutex_lock_at(mtask_mutex *mutex, int64_t timeout, const char *file,
                                            int line) {
    mtask__blocked where = mtask__blocked_on(mutex, file, line);
    return mtask__debug_lock(mutex, mutex, timeout, mtask__debug_is_checked(mutex), &where);
}

MTASK_API mtask_status mtask__mutex_unlock_at(mtask_mutex *mutex) {
    if (!mtask_mutex_is_locked(mutex))
        return MTASK_INVALID;
    if (mtask__debug_is_checked(mutex) && mtask__owner_of(mutex) != mtask_task_id())
        return MTASK_NOT_OWNER;
    mtask__debug_release(mutex);
    return (mtask_mutex_unlock)(mutex);
}

MTASK_API mtask_status mtask__rmutex_lock_at(mtask_rmutex *rmutex, int64_t timeout,
                                             const char *file, int line) {
    mtask__blocked where = mtask__blocked_on(rmutex, file, line);
    mtask_status status;
    if (mtask__rmutex_mine(rmutex))
        return (mtask_rmutex_lock_for)(rmutex, timeout);
    status = mtask__debug_lock(rmutex, &rmutex->mutex, timeout, true, &where);
    if (status == MTASK_OK) {
        mtask__rmutex_own(rmutex, 1);
    }
    return status;
}

MTASK_API mtask_status mtask__rmutex_unlock_at(mtask_rmutex *rmutex) {
    if (mtask_rmutex_count(rmutex) == 1)
        mtask__debug_release(rmutex);
    return (mtask_rmutex_unlock)(rmutex);
}

MTASK_API mtask_status mtask__cond_wait_at(mtask_cond *cond, mtask_mutex *mutex, int64_t timeout,
                                           const char *file, int line) {
    mtask_status status;
    if (timeout < 0 || !mtask_mutex_is_locked(mutex))
        return MTASK_INVALID;
    if (mtask__debug_is_checked(mutex) && mtask__owner_of(mutex) != mtask_task_id())
        return MTASK_NOT_OWNER;
    mtask__debug_release(mutex);
    status = (mtask_cond_wait)(cond, mutex, timeout);
    mtask__debug_acquired(mutex, mutex, file, line);
    return status;
}

MTASK_API mtask_status mtask__cond_wait_rmutex_at(mtask_cond *cond, mtask_rmutex *rmutex,
                                                  int64_t timeout, const char *file, int line) {
    mtask_status status;
    if (timeout < 0 || !mtask__rmutex_mine(rmutex))
        return timeout < 0 ? MTASK_INVALID : MTASK_NOT_OWNER;
    mtask__debug_release(rmutex);
    status = (mtask_cond_wait_rmutex)(cond, rmutex, timeout);
    mtask__debug_acquired(rmutex, &rmutex->mutex, file, line);
    return status;
}

MTASK_API mtask_status mtask__thread_join_at(mtask_thread *thread, mtask_outcome *outcome,
                                             int64_t timeout, const char *file, int line) {
    mtask__blocked blocked = mtask__blocked_on(NULL, file, line);
    mtask__thread *block = timeout == MTASK_FOREVER ? mtask__thread_hold(thread) : NULL;
    mtask_status status;
    if (block == NULL || block == mtask__me()->thread || mtask_future_done(&block->future)) {
        mtask__thread_unhold(block);
        return (mtask_thread_join)(thread, outcome, timeout);
    }
    blocked.joins = block->info.id;
    memcpy(blocked.joined, thread->info.name, sizeof blocked.joined);
    status = mtask__debug_block(&blocked, true);
    if (status == MTASK_OK) {
        status = (mtask_thread_join)(thread, outcome, timeout);
        mtask__debug_unblock(&blocked);
    }
    mtask__thread_unhold(block);
    return status;
}

static void mtask__debug_fork_prepare(void) {
    mtask__lock(&mtask__state.debug_lock);
}

static void mtask__debug_fork_parent(void) {
    mtask__unlock(&mtask__state.debug_lock);
}

/* Locks of the thread that forked are the child's; those of the others are nobody's. */
static void mtask__debug_fork_child(uint64_t parents, uint64_t id) {
    for (mtask__owned *owned = mtask__state.owned; owned != NULL; owned = owned->next)
        owned->owner = owned->owner == parents && !owned->shared ? id : 0;
    mtask__state.blocked = NULL;
    mtask__store(&mtask__state.debug_lock.word, 0,
                 RELAXED); /* there is one thread: pairs with none */
}

# else /* without the detector */

static void mtask__debug_fork_prepare(void) {
}

static void mtask__debug_fork_parent(void) {
}

static void mtask__debug_fork_child(uint64_t parents, uint64_t id) {
    (void)parents;
    (void)id;
}

MTASK_API mtask_status mtask_debug_on_deadlock(void (*hook)(const mtask_deadlock *report,
                                                            void *ctx),
                                               void *ctx) {
    (void)hook;
    (void)ctx;
    return MTASK_UNSUPPORTED;
}

MTASK_API mtask_status mtask_debug_name(const void *lock, const char *name) {
    (void)lock;
    (void)name;
    return MTASK_OK;
}

# endif

/* ================================ platforms ================================ */

# if MTASK__POSIX

/* ---- >>posix: threads, keys, clock, robust locks; Linux uses these too ---- */

/* The status for an error number that a pthread function returned; errno gets it, too. */
static mtask_status mtask__posix_status(int error) {
    switch (error) {
    case 0:
        return MTASK_OK;
    case ETIMEDOUT:
    case EBUSY:
        return MTASK_TIMEOUT;
    case EDEADLK:
        return MTASK_DEADLOCK;
    case EOWNERDEAD:
        return MTASK_OWNER_DEAD;
    case ENOTRECOVERABLE:
        return MTASK_BROKEN;
    case EPERM:
        return MTASK_NOT_OWNER;
    case ENOMEM:
        return MTASK_NOMEM;
    default:
        errno = error;
        return MTASK_SYSTEM;
    }
}

static struct timespec mtask__posix_time(int64_t time) {
    struct timespec spec;
    spec.tv_sec = (time_t)(time / MTASK_SEC(1));
    spec.tv_nsec = (long)(time % MTASK_SEC(1));
    return spec;
}

static int64_t mtask__os_now(void) {
    struct timespec now;
    if (clock_gettime(CLOCK_MONOTONIC, &now) != 0)
        return -1;
    return (int64_t)now.tv_sec * MTASK_SEC(1) + now.tv_nsec;
}

static void mtask__os_yield(void) {
    (void)sched_yield();
}

static bool mtask__os_is_parallel(void) {
    return sysconf(_SC_NPROCESSORS_ONLN) > 1;
}

static void mtask__os_call_once(mtask__os_once *once, void (*fn)(void)) {
    (void)pthread_once(once, fn);
}

static mtask__os_thread mtask__os_thread_self(void) {
    return pthread_self();
}

static void mtask__os_thread_join(mtask__os_thread thread) {
    (void)pthread_join(thread, NULL);
}

static void mtask__os_thread_detach(mtask__os_thread thread) {
    (void)pthread_detach(thread);
}

static mtask_status mtask__os_key_create(mtask_word *key, void (*destructor)(void *value)) {
    pthread_key_t made;
    mtask_status status = mtask__posix_status(pthread_key_create(&made, destructor));
    if (status == MTASK_OK)
        *key = (mtask_word)made + 1;
    return status;
}

static void mtask__os_key_delete(mtask_word key) {
    (void)pthread_key_delete((pthread_key_t)(key - 1));
}

static void *mtask__os_key_get(mtask_word key) {
    return pthread_getspecific((pthread_key_t)(key - 1));
}

static mtask_status mtask__os_key_set(mtask_word key, void *value) {
    return mtask__posix_status(pthread_setspecific((pthread_key_t)(key - 1), value));
}

/* The process number, of 22 bits at most on Linux, and two bits of the time it was asked for. */
static uint32_t mtask__os_nonce(void) {
    uint32_t time = (uint32_t)(mtask__os_now() >> 10) & 3;
    return ((uint32_t)getpid() & 0x3fffff) | time << 22;
}

static void mtask__os_at_fork(void (*prepare)(void), void (*parent)(void), void (*child)(void)) {
    (void)pthread_atfork(prepare, parent, child); /* without memory, forks go unnoticed */
}

static void *mtask__posix_entry(void *block) {
    mtask__thread_entry((mtask__thread *)block);
    return NULL;
}

static int mtask__posix_affinity(pthread_attr_t *attr, const mtask_thread_desc *desc);

static int mtask__posix_stack_size(pthread_attr_t *attr, size_t size) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t least = (size_t)sysconf(_SC_THREAD_STACK_MIN);
    if (size == 0)
        return 0;
    if (size > SIZE_MAX - page)
        return EINVAL;
    if (size < least)
        size = least;
    return pthread_attr_setstacksize(attr, (size + page - 1) / page * page);
}

static mtask_status mtask__os_thread_start(mtask__thread *block, const mtask_thread_desc *desc,
                                           bool detached) {
    pthread_attr_t attr;
    pthread_t thread;
    int error = pthread_attr_init(&attr);
    if (error != 0)
        return mtask__posix_status(error);
    if (detached)
        error = pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    if (error == 0)
        error = mtask__posix_stack_size(&attr, desc->stack_size);
    if (error == 0 && desc->cpu_count > 0)
        error = mtask__posix_affinity(&attr, desc);
    if (error == 0)
        error = pthread_create(&thread, &attr, mtask__posix_entry, block);
    (void)pthread_attr_destroy(&attr);
    if (error == ENOTSUP)
        return MTASK_UNSUPPORTED;
    if (error != 0 && error != ENOMEM) {
        errno = error; /* also EPERM and the like, which are statuses of locks elsewhere */
        return MTASK_SYSTEM;
    }
    return mtask__posix_status(error);
}

/* The robust lock is pthread's, since libc owns the list that the kernel walks when a thread dies.
 */
static pthread_mutex_t *mtask__robust(mtask_shared_mutex *mutex) {
    typedef char fits[sizeof(pthread_mutex_t) <= sizeof mutex->storage ? 1 : -1];
    return (pthread_mutex_t *)(void *)(mutex->storage.bytes + 0 * sizeof(fits));
}

static mtask_status mtask__os_robust_init(mtask_shared_mutex *mutex) {
    pthread_mutexattr_t attr;
    int error = pthread_mutexattr_init(&attr);
    if (error != 0)
        return mtask__posix_status(error);
    error = pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
    if (error == 0)
        error = pthread_mutexattr_settype(&attr, PTHREAD_MUTEX_ERRORCHECK);
    if (error == 0)
        error = pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
    memset(mutex, 0, sizeof *mutex);
    if (error == 0)
        error = pthread_mutex_init(mtask__robust(mutex), &attr);
    (void)pthread_mutexattr_destroy(&attr);
    return error == ENOTSUP ? MTASK_UNSUPPORTED : mtask__posix_status(error);
}

#  ifdef __GLIBC__
#   if __GLIBC_PREREQ(2, 30)
#    define MTASK__POSIX_CLOCKLOCK
#   endif
#  endif

/* A deadline of 0 only tries; pthread_mutex_trylock will not do, since glibc's leaves a mutex that
   is not recoverable locked (it returns ENOTRECOVERABLE with the lock held). */
static int mtask__robust_lock_until(pthread_mutex_t *mutex, int64_t deadline) {
    struct timespec until = mtask__posix_time(deadline);
#  if defined(MTASK__POSIX_CLOCKLOCK) && !MTASK__TSAN /* which does not know it */
    return pthread_mutex_clocklock(mutex, CLOCK_MONOTONIC, &until);
#  else
    struct timespec wall; /* POSIX.1-2008 knows only the wall clock here */
    int64_t left = deadline - mtask__os_now();
    if (clock_gettime(CLOCK_REALTIME, &wall) != 0)
        return errno;
    until = mtask__posix_time((int64_t)wall.tv_sec * MTASK_SEC(1) + wall.tv_nsec + left);
    return pthread_mutex_timedlock(mutex, &until);
#  endif
}

static mtask_status mtask__os_robust_deinit(mtask_shared_mutex *mutex) {
    int error = mtask__robust_lock_until(mtask__robust(mutex), 0); /* destroy does not tell */
    if (error != 0 && error != EOWNERDEAD && error != ENOTRECOVERABLE)
        return MTASK_INVALID;
    if (error != ENOTRECOVERABLE)
        (void)pthread_mutex_unlock(mtask__robust(mutex));
    return pthread_mutex_destroy(mtask__robust(mutex)) == 0 ? MTASK_OK : MTASK_INVALID;
}

static mtask_status mtask__os_robust_lock(mtask_shared_mutex *mutex, int64_t deadline) {
    pthread_mutex_t *robust = mtask__robust(mutex);
    return mtask__posix_status(mtask__robust_lock_until(robust, deadline));
}

static mtask_status mtask__os_robust_consistent(mtask_shared_mutex *mutex) {
    return pthread_mutex_consistent(mtask__robust(mutex)) == 0 ? MTASK_OK : MTASK_INVALID;
}

static mtask_status mtask__os_robust_unlock(mtask_shared_mutex *mutex) {
    return mtask__posix_status(pthread_mutex_unlock(mtask__robust(mutex)));
}

#  if !MTASK__FUTEX

/* ---- >>posix-wait: threads park in the table, each on a condition of its own ---- */

typedef struct mtask__posix_parker {
    mtask__parker base; /* first: the table knows only this */
    pthread_mutex_t mutex;
    pthread_cond_t cond;
    bool posted;
} mtask__posix_parker;

static mtask_status mtask__posix_park(mtask__parker *parker, mtask__waiter *waiter,
                                      int64_t deadline) {
    mtask__posix_parker *self = (mtask__posix_parker *)parker;
    struct timespec until = mtask__posix_time(deadline);
    int error = 0;
    (void)pthread_mutex_lock(&self->mutex);
    while (!self->posted && error == 0)
        error = deadline == MTASK_FOREVER
                    ? pthread_cond_wait(&self->cond, &self->mutex)
                    : pthread_cond_timedwait(&self->cond, &self->mutex, &until);
    (void)pthread_mutex_unlock(&self->mutex);
    if (error != 0) {
        if (mtask__unpark(waiter))
            return mtask__posix_status(error);
        (void)pthread_mutex_lock(&self->mutex); /* a waker has it: the post is on its way */
        while (!self->posted)
            (void)pthread_cond_wait(&self->cond, &self->mutex);
        (void)pthread_mutex_unlock(&self->mutex);
    }
    return MTASK_OK;
}

/* Signals before it lets go of the mutex: after that the waiter may destroy both. */
static void mtask__posix_post(mtask__parker *parker, mtask__waiter *waiter) {
    mtask__posix_parker *self = (mtask__posix_parker *)parker;
    (void)waiter;
    (void)pthread_mutex_lock(&self->mutex);
    self->posted = true;
    (void)pthread_cond_signal(&self->cond);
    (void)pthread_mutex_unlock(&self->mutex);
}

static int mtask__posix_cond_init(pthread_cond_t *cond) {
    pthread_condattr_t attr;
    int error = pthread_condattr_init(&attr);
    if (error != 0)
        return error;
    error = pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    if (error == 0)
        error = pthread_cond_init(cond, &attr);
    (void)pthread_condattr_destroy(&attr);
    return error;
}

static mtask_status mtask__os_wait(mtask_word *word, mtask_word expected, int64_t deadline,
                                   int flags) {
    mtask__posix_parker parker;
    mtask_status status;
    int saved = errno;
    int error = pthread_mutex_init(&parker.mutex, NULL);
    if (error == 0) {
        error = mtask__posix_cond_init(&parker.cond);
        if (error != 0)
            (void)pthread_mutex_destroy(&parker.mutex);
    }
    if (error != 0) {
        errno = error;
        return MTASK_SYSTEM;
    }
    parker.base.park = mtask__posix_park;
    parker.base.pin = NULL; /* it waits for the post */
    parker.base.post = mtask__posix_post;
    parker.posted = false;
    status = mtask__park(&parker.base, word, expected, deadline, flags);
    (void)pthread_cond_destroy(&parker.cond);
    (void)pthread_mutex_destroy(&parker.mutex);
    if (status != MTASK_SYSTEM)
        errno = saved;
    return status;
}

static int mtask__os_wake(mtask_word *word, int n, int flags) {
    (void)word;
    (void)n;
    (void)flags;
    return 0;
}

#  endif /* posix-wait */

#  if MTASK__LINUX

/* ---- >>linux: CPUs, thread numbers and names, futex ---- */

#   include <fcntl.h>
#   include <sys/syscall.h>

static int64_t mtask__os_thread_native_id(void) {
    return (int64_t)syscall(SYS_gettid);
}

static bool mtask__os_thread_is_main(void) {
    return mtask__os_thread_native_id() == (int64_t)getpid();
}

static void mtask__os_thread_rename(mtask__os_thread thread, const char *name) {
    char seen[16]; /* as much as the kernel keeps */
    size_t length = strlen(name);
    if (length >= sizeof seen)
        length = sizeof seen - 1;
    memcpy(seen, name, length);
    seen[length] = '\0';
    (void)pthread_setname_np(thread, seen);
}

static int mtask__posix_affinity(pthread_attr_t *attr, const mtask_thread_desc *desc) {
    cpu_set_t cpus;
    CPU_ZERO(&cpus);
    for (size_t i = 0; i < desc->cpu_count; i++) {
        if (desc->cpus[i] >= CPU_SETSIZE)
            return EINVAL;
        CPU_SET(desc->cpus[i], &cpus);
    }
#   ifdef __GLIBC__
    return pthread_attr_setaffinity_np(attr, sizeof cpus, &cpus);
#   else
    (void)attr;
    return ENOTSUP; /* not every C library lets attributes hold CPUs */
#   endif
}

/* Where the quota of a cgroup is to be found; tests point these elsewhere. */
#   ifndef MTASK__CGROUP_ROOT
#    define MTASK__CGROUP_ROOT "/sys/fs/cgroup"
#   endif
#   ifndef MTASK__PROC_CGROUP
#    define MTASK__PROC_CGROUP "/proc/self/cgroup"
#   endif

/* Reads a small file whole, as text; false if it cannot. */
static bool mtask__read_file(const char *path, char *text, size_t size) {
    int file = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t length;
    if (file < 0)
        return false;
    length = read(file, text, size - 1);
    (void)close(file);
    text[length > 0 ? length : 0] = '\0';
    return length > 0;
}

/* The quota in one folder of cgroup version 2 ("cpu.max": quota or "max", period) or 1 (a file
   each), as CPUs, rounded up; UINT_MAX if it sets none. */
static unsigned mtask__cgroup_quota(const char *folder, bool v2) {
    char path[1024 + 32];
    char text[64];
    long long quota = -1;
    long long period = 0;
    const char *file = v2 ? "cpu.max" : "cpu.cfs_quota_us";
    if (snprintf(path, sizeof path, "%s/%s", folder, file) >= (int)sizeof path ||
        !mtask__read_file(path, text, sizeof text))
        return UINT_MAX;
    if (v2) {
        if (sscanf(text, "%lld %lld", &quota, &period) != 2)
            return UINT_MAX;
    } else {
        quota = atoll(text);
        memcpy(strrchr(path, '/'), "/cpu.cfs_period_us", sizeof "/cpu.cfs_period_us");
        period = mtask__read_file(path, text, sizeof text) ? atoll(text) : 0;
    }
    if (quota <= 0 || period <= 0)
        return UINT_MAX;
    return (unsigned)((quota + period - 1) / period);
}

/* The smallest quota from a cgroup's folder up to the root, `path` being the cgroup's path in the
   hierarchy: a child may not use more than its parents. */
static unsigned mtask__cgroup_limit(const char *root, const char *path, bool v2) {
    char folder[1024];
    size_t base = strlen(root);
    unsigned limit = UINT_MAX;
    char *slash = folder;
    (void)snprintf(folder, sizeof folder, "%s%s", root, path);
    while (slash != NULL && strlen(folder) >= base) {
        unsigned quota = mtask__cgroup_quota(folder, v2);
        limit = quota < limit ? quota : limit;
        slash = strrchr(folder, '/');
        if (slash != NULL)
            *slash = '\0';
    }
    return limit;
}

/* Whether a list of controllers ("cpu,cpuacct") names "cpu". */
static bool mtask__cgroup_has_cpu(const char *list) {
    while (list != NULL) {
        size_t length = strcspn(list, ",");
        if (length == 3 && memcmp(list, "cpu", 3) == 0)
            return true;
        list = list[length] != '\0' ? list + length + 1 : NULL;
    }
    return false;
}

/* Lines of /proc/self/cgroup: "0::/path" for version 2, "N:cpu,cpuacct:/path" for version 1. */
static unsigned mtask__cgroup_cpus(void) {
    char text[4096];
    unsigned limit = UINT_MAX;
    char *next;
    if (!mtask__read_file(MTASK__PROC_CGROUP, text, sizeof text))
        return limit;
    for (char *line = text; line != NULL && *line != '\0'; line = next) {
        char *controllers = strchr(line, ':');
        char *path = controllers != NULL ? strchr(controllers + 1, ':') : NULL;
        unsigned quota = UINT_MAX;
        next = strchr(line, '\n');
        if (next != NULL)
            *next++ = '\0';
        if (path == NULL || (next != NULL && path > next))
            continue;
        *path++ = '\0';
        if (strcmp(controllers, ":") == 0)
            quota = mtask__cgroup_limit(MTASK__CGROUP_ROOT, path, true);
        else if (mtask__cgroup_has_cpu(controllers + 1))
            quota = mtask__cgroup_limit(MTASK__CGROUP_ROOT "/cpu", path, false);
        limit = quota < limit ? quota : limit;
    }
    return limit;
}

static unsigned mtask__os_cpu_count(void) {
    unsigned long mask[128]; /* 8,192 CPUs on 64-bit systems */
    long bytes = syscall(SYS_sched_getaffinity, 0, sizeof mask, mask);
    unsigned count = 0;
    unsigned quota = mtask__cgroup_cpus();
    for (size_t i = 0; bytes > 0 && i < (size_t)bytes / sizeof mask[0]; i++)
        count += (unsigned)__builtin_popcountl(mask[i]);
    if (count == 0) {
        long online = sysconf(_SC_NPROCESSORS_ONLN);
        count = online > 0 ? (unsigned)online : 1;
    }
    return quota < count ? quota : count;
}
#  endif

#  if MTASK__FUTEX

/* ---- >>linux-wait: futex ---- */

/* As in linux/futex.h, which some C libraries come without. */
enum {
    MTASK__FUTEX_WAIT = 9,  /* FUTEX_WAIT_BITSET */
    MTASK__FUTEX_WAKE = 10, /* FUTEX_WAKE_BITSET */
    MTASK__FUTEX_PRIVATE = 128
};

/* One futex call. On 32-bit systems the kernel takes 64-bit times by a call of its own, which old
   kernels lack; there the monotonic clock still fits into 32 bits. */
static long mtask__futex(mtask_word *word, int operation, mtask_word value, int64_t deadline,
                         mtask_word mask) {
    struct {
        int64_t seconds;
        int64_t nanoseconds;
    } until;
    until.seconds = deadline / MTASK_SEC(1);
    until.nanoseconds = deadline % MTASK_SEC(1);
#   if defined(SYS_futex_time64) && __SIZEOF_LONG__ == 4
    {
        long result = syscall(SYS_futex_time64, word, operation, value,
                              deadline == MTASK_FOREVER ? NULL : &until, NULL, mask);
        if (result >= 0 || errno != ENOSYS)
            return result;
    }
#   endif
#   if defined(SYS_futex)
    {
        struct {
            long seconds;
            long nanoseconds;
        } native;
        native.seconds = until.seconds > LONG_MAX ? LONG_MAX : (long)until.seconds;
        native.nanoseconds = (long)until.nanoseconds;
        return syscall(SYS_futex, word, operation, value,
                       deadline == MTASK_FOREVER ? NULL : &native, NULL, mask);
    }
#   else
    errno = ENOSYS;
    return -1;
#   endif
}

static int mtask__futex_flags(int operation, int flags) {
    return (flags & MTASK_SHARED) != 0 ? operation : operation | MTASK__FUTEX_PRIVATE;
}

/* Bit 0 for class 1, bit 1 for class 2; all for those of no class. */
static mtask_word mtask__futex_mask(int flags) {
    mtask_word classes = (mtask_word)(flags & MTASK__CLASSES) / MTASK__CLASS_1;
    return classes != 0 ? classes : (mtask_word)-1;
}

/* FUTEX_WAIT_BITSET takes an absolute time of the monotonic clock. */
static mtask_status mtask__os_wait(mtask_word *word, mtask_word expected, int64_t deadline,
                                   int flags) {
    int operation = mtask__futex_flags(MTASK__FUTEX_WAIT, flags);
    int saved = errno;
    mtask_status status = MTASK_SYSTEM;
    while (mtask__futex(word, operation, expected, deadline, mtask__futex_mask(flags)) != 0)
        if (errno != EINTR) {
            status = errno == ETIMEDOUT ? MTASK_TIMEOUT : MTASK_SYSTEM;
            if (errno != EAGAIN && errno != ETIMEDOUT)
                return MTASK_SYSTEM;
            break;
        }
    if (status == MTASK_SYSTEM) /* woken, or EAGAIN: the word differs */
        status = MTASK_OK;
    errno = saved;
    return status;
}

/* The memory may be gone already, and the call may fail for that: then there is nobody to wake. */
static int mtask__os_wake(mtask_word *word, int n, int flags) {
    int operation = mtask__futex_flags(MTASK__FUTEX_WAKE, flags);
    int saved = errno;
    long woken =
        mtask__futex(word, operation, (mtask_word)n, MTASK_FOREVER, mtask__futex_mask(flags));
    errno = saved;
    return woken > 0 ? (int)woken : 0;
}

#  endif /* linux-wait */

# endif /* MTASK__POSIX */

# if defined(MTASK_NO_THREADS) && !defined(MTASK_PLATFORM_CUSTOM)

/* ---- >>no-threads: one thread, no system ---- */

/* Locks are free whenever the one thread asks. A wait looks at its word again and again: the clock,
   an interrupt, or what MTASK_IDLE does may end it.

   An interrupt handler may call mtask_event_set, mtask_sem_release and the functions of words; and
   put to or get from a bounded FIFO, with MTASK_NOWAIT, at an end that nobody else uses, if nobody
   selects on that queue. It runs on the stack of the coroutine that it interrupts, unless the
   processor gives it one of its own: leave room.

   Processors without atomic read-modify-write, such as Cortex-M0: gcc calls functions for it,
   __atomic_exchange_4, __atomic_compare_exchange_4 and __atomic_fetch_{add,sub,and,or}_4. Link
   libatomic, or write these six; they must hold interrupts off. */

static int64_t mtask__os_now(void) {
#  ifdef MTASK_CLOCK
    return MTASK_CLOCK();
#  else
    errno = ENOSYS;
    return -1;
#  endif
}

/* Whether something other than the clock may end a wait. */
static bool mtask__idle(void) {
#  ifdef MTASK_IDLE
    MTASK_IDLE();
    return true;
#  else
    return false;
#  endif
}

static mtask_status mtask__os_wait(mtask_word *word, mtask_word expected, int64_t deadline,
                                   int flags) {
    (void)flags;
    while (mtask__load(word, SEQ_CST) == expected) {
        int64_t now = deadline != 0 && deadline != MTASK_FOREVER ? mtask__os_now() : 0;
        if (now < 0)
            return MTASK_SYSTEM;
        if (now >= deadline)
            return MTASK_TIMEOUT;
        if (!mtask__idle() && deadline == MTASK_FOREVER)
            return MTASK_DEADLOCK;
    }
    return MTASK_OK;
}

static int mtask__os_wake(mtask_word *word, int n, int flags) {
    (void)word, (void)n, (void)flags;
    return 0; /* it sees for itself */
}

static void mtask__os_yield(void) {
}

static void mtask__os_call_once(mtask__os_once *once, void (*fn)(void)) {
    if (!*once)
        fn();
    *once = true;
}

static unsigned mtask__os_cpu_count(void) {
    return 1;
}

static bool mtask__os_is_parallel(void) {
    return false;
}

static mtask_status mtask__os_thread_start(mtask__thread *block, const mtask_thread_desc *desc,
                                           bool detached) {
    (void)block, (void)desc, (void)detached;
    return MTASK_UNSUPPORTED;
}

static mtask__os_thread mtask__os_thread_self(void) {
    return 0;
}

static int64_t mtask__os_thread_native_id(void) {
    return 0;
}

static bool mtask__os_thread_is_main(void) {
    return true;
}

static void mtask__os_thread_join(mtask__os_thread thread) {
    (void)thread;
}

static void mtask__os_thread_detach(mtask__os_thread thread) {
    (void)thread;
}

static void mtask__os_thread_rename(mtask__os_thread thread, const char *name) {
    (void)thread, (void)name;
}

/* The thread does not end, and so no destructor ever runs. */
static struct {
    bool used;
    void *value;
} mtask__keys[16];

static mtask_status mtask__os_key_create(mtask_word *key, void (*destructor)(void *value)) {
    (void)destructor;
    for (mtask_word i = 0; i < sizeof mtask__keys / sizeof mtask__keys[0]; i++)
        if (!mtask__keys[i].used) {
            mtask__keys[i].used = true;
            mtask__keys[i].value = NULL;
            *key = i + 1;
            return MTASK_OK;
        }
    return MTASK_NOMEM;
}

static void mtask__os_key_delete(mtask_word key) {
    mtask__keys[key - 1].used = false;
}

static void *mtask__os_key_get(mtask_word key) {
    return mtask__keys[key - 1].value;
}

static mtask_status mtask__os_key_set(mtask_word key, void *value) {
    mtask__keys[key - 1].value = value;
    return MTASK_OK;
}

static uint32_t mtask__os_nonce(void) {
    return 1;
}

static void mtask__os_at_fork(void (*prepare)(void), void (*parent)(void), void (*child)(void)) {
    (void)prepare, (void)parent, (void)child;
}

static mtask_status mtask__os_robust_init(mtask_shared_mutex *mutex) {
    (void)mutex;
    return MTASK_UNSUPPORTED;
}

static mtask_status mtask__os_robust_deinit(mtask_shared_mutex *mutex) {
    (void)mutex;
    return MTASK_UNSUPPORTED;
}

static mtask_status mtask__os_robust_lock(mtask_shared_mutex *mutex, int64_t deadline) {
    (void)mutex, (void)deadline;
    return MTASK_UNSUPPORTED;
}

static mtask_status mtask__os_robust_consistent(mtask_shared_mutex *mutex) {
    (void)mutex;
    return MTASK_UNSUPPORTED;
}

static mtask_status mtask__os_robust_unlock(mtask_shared_mutex *mutex) {
    (void)mutex;
    return MTASK_UNSUPPORTED;
}

# endif /* no-threads */

# ifdef __cplusplus
} /* extern "C" */
# endif

#endif /* MTASK_IMPLEMENTATION */

/* ---- licence ----

   This software is available under two licences: choose the one you prefer.

   ALTERNATIVE A - MIT License

   Copyright (c) 2026 the mtask authors

   Permission is hereby granted, free of charge, to any person obtaining a copy of this software and
   associated documentation files (the "Software"), to deal in the Software without restriction,
   including without limitation the rights to use, copy, modify, merge, publish, distribute,
   sublicense, and/or sell copies of the Software, and to permit persons to whom the Software is
   furnished to do so, subject to the following conditions:

   The above copyright notice and this permission notice shall be included in all copies or
   substantial portions of the Software.

   THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT
   NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND
   NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM,
   DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM,
   OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.

   ALTERNATIVE B - Public Domain (www.unlicense.org)

   This is free and unencumbered software released into the public domain. Anyone is free to copy,
   modify, publish, use, compile, sell, or distribute this software, either in source code form or
   as a compiled binary, for any purpose, commercial or non-commercial, and by any means. The
   software is provided "as is", without warranty of any kind. */
