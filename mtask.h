/* mtask.h 0.1.0 - threads, locks, conditions, events, barriers, timers and futures for C

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
       and objects that other threads held must be initialised again.
     - A program and its plugins may each have a copy of this header. They share threads, timers
       and coroutines if the dynamic linker can see the program's symbols (link it with -rdynamic);
       otherwise each copy keeps house by itself: locks, conditions and futures still work across
       for threads, while coroutines of one copy are not woken by the other.

   CONTENTS: grep for the tag.
     >>config  >>status  >>time  >>words  >>mutex  >>rmutex  >>shared-mutex  >>condition
     >>semaphore  >>event  >>barrier  >>rwlock  >>once  >>waitgroup  >>task  >>future  >>thread
     >>local  >>timer  >>debug  >>guard  >>siblings
     implementation: >>state  >>contract  >>wait  >>park  >>listener and the same tags again
     platforms: >>linux  >>posix

   OPTIONS (define them before the include, the same in every file)
     MTASK_STATIC           every function static: mtask in one file only
     MTASK_DEBUG 1          owners, named locks and the dead-lock detector (default: 0)
     MTASK_SPIN             turns a lock spins before it sleeps (default: 100; 0 on one CPU)
     MTASK_MALLOC(size), MTASK_REALLOC(p, size), MTASK_FREE(p)  (default: the C library's)
     MTASK_FORCE_POSIX      do without futex: everything on pthread mutexes and conditions
     MTASK_PLATFORM_CUSTOM  you supply the functions declared under >>contract (an RTOS)

   LICENCE: MIT or public domain, at your choice; see the end of this file. */

/* ---- >>config ---- */

#if defined(MTASK_IMPLEMENTATION) && !defined(_GNU_SOURCE)
# if defined(_FEATURES_H) || defined(_SYS_CDEFS_H_)
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
# define MTASK_VERSION_MINOR  1
# define MTASK_VERSION_PATCH  0
# define MTASK_VERSION_STRING "0.1.0"

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
    MTASK_SHARED = 1,  /* used by several processes; the object lies in memory they share */
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

/* Blocks for `duration` nanoseconds, never less. MTASK_OK, MTASK_INVALID (negative),
   MTASK_CANCELED (a cancelled coroutine), MTASK_SYSTEM. */
MTASK_API mtask_status mtask_sleep(int64_t duration);

/* How many CPUs this process may use: its affinity mask, limited by the quota of its cgroups,
   rounded up; at least 1. Reads the system each time. Does not block. */
MTASK_API unsigned mtask_cpu_count(void);

/* ---- >>words: the one place where everything waits ---- */

/* The word that everything waits on. Build your own primitives on these; every access here is
   sequentially consistent. A primitive must loop: a return of MTASK_OK means "look again". */
typedef uint32_t mtask_word;

MTASK__INLINE mtask_word mtask_word_load(const mtask_word *word) {
    return mtask__load(word, SEQ_CST);
}

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
    return mtask__cas(word, expected, value, SEQ_CST);
}

/* Adds `n` (wrapping; `(mtask_word)-1` subtracts one) and returns what was there before. */
MTASK__INLINE mtask_word mtask_word_add(mtask_word *word, mtask_word n) {
    return mtask__add(word, n, SEQ_CST);
}

/* Blocks while *word == expected, until woken, for at most `timeout` nanoseconds. `flags`:
   MTASK_PRIVATE or MTASK_SHARED, the same as the waker's.
   MTASK_OK: woken, or the word differs, or for no reason at all; look again. MTASK_TIMEOUT.
   MTASK_CANCELED (a cancelled coroutine). MTASK_DEADLOCK (called on a scheduler's own stack).
   MTASK_INVALID (negative timeout). MTASK_UNSUPPORTED (MTASK_SHARED where there is none).
   MTASK_SYSTEM. A waiter with MTASK_SHARED looks again every 100 ms by itself, because a woken
   process may be killed before it passes the news on; so does a coroutine that another process
   has to wake. */
MTASK_API mtask_status mtask_word_wait(mtask_word *word, mtask_word expected, int64_t timeout,
                                       int flags);

/* Wakes up to `n` of those who wait on `word` (INT_MAX: all), after you changed it. Only the
   address is used: the memory may already be gone. Returns how many it woke. Does not block; not
   async-signal-safe. */
MTASK_API int mtask_word_wake(mtask_word *word, int n, int flags);

/* ---- >>mutex: threading.Lock ---- */

/* A lock of 4 bytes. Any thread may unlock it. It is not fair: whoever comes first gets it, and a
   waiter that has been woken competes with the newcomers. No call on it is a cancellation point
   except mtask_mutex_lock_for.

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

/* Makes an unlocked mutex. `flags`: MTASK_PRIVATE, MTASK_SHARED, MTASK_CHECKED.
   MTASK_INVALID (other flags), MTASK_UNSUPPORTED. */
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

/* Locks within `timeout` nanoseconds; MTASK_NOWAIT only tries. As mtask_mutex_lock, and
   MTASK_TIMEOUT, MTASK_INVALID (negative), MTASK_CANCELED. */
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
    mtask_word owner[2]; /* the id of the owning task, low half first; 0: nobody */
    uint32_t count;      /* how often the owner holds it; only the owner touches it */
} mtask_rmutex;

/* Makes an unlocked one. `flags`: MTASK_PRIVATE or MTASK_SHARED. MTASK_INVALID,
   MTASK_UNSUPPORTED. */
MTASK_API mtask_status mtask_rmutex_init(mtask_rmutex *rmutex, int flags);

/* Locks, or counts up if the caller holds it; blocks while another task holds it. MTASK_OK,
   MTASK_OVERFLOW (held 2^32 - 1 times), MTASK_SYSTEM; MTASK_DEADLOCK in MTASK_DEBUG builds. */
MTASK_API mtask_status mtask_rmutex_lock(mtask_rmutex *rmutex);

/* The same within `timeout` nanoseconds; MTASK_NOWAIT only tries. Also MTASK_TIMEOUT,
   MTASK_INVALID (negative), MTASK_CANCELED. */
MTASK_API mtask_status mtask_rmutex_lock_for(mtask_rmutex *rmutex, int64_t timeout);

/* Counts down; at zero, unlocks. Does not block. MTASK_NOT_OWNER if the caller does not hold
   it. */
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

/* The same within `timeout` nanoseconds; MTASK_NOWAIT only tries. Also MTASK_TIMEOUT,
   MTASK_INVALID (negative), MTASK_CANCELED. */
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
# define MTASK_COND_WAIT_FOR(status, cond, mutex, timeout, predicate)                              \
  do {                                                                                             \
   int64_t mtask__end = mtask_deadline(timeout);                                                   \
   (status) = mtask__end < 0 ? MTASK_INVALID : MTASK_OK;                                           \
   while ((status) == MTASK_OK && !(predicate))                                                    \
    (status) = mtask_cond_wait((cond), (mutex), mtask_until(mtask__end));                          \
   if ((status) == MTASK_TIMEOUT && (predicate))                                                   \
    (status) = MTASK_OK;                                                                           \
  } while (0)

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
   BoundedSemaphore(n) is value n, limit n). `flags`: MTASK_PRIVATE or MTASK_SHARED.
   MTASK_INVALID: value negative or above the limit, limit above MTASK_SEM_MAX, other flags.
   MTASK_UNSUPPORTED. */
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
    mtask__and(&event->word, ~MTASK__EVENT_SET, RELAXED); /* publishes nothing: pairs with none */
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

/* The number of the running task (thread or coroutine): never 0, never used twice, also not in
   another process. */
MTASK_API uint64_t mtask_task_id(void);

/* ---- >>barrier: threading.Barrier ---- */

/* A meeting point of `parties` tasks. A waiter that gives up breaks it for all, until reset. The
   fields are private. */
typedef struct mtask_barrier {
    mtask_mutex lock; /* guards the plain fields */
    mtask_word word;  /* where the parties wait; see the implementation */
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
   receives the order of arrival in this round, 0 to parties - 1, each once. MTASK_OK.
   MTASK_TIMEOUT or MTASK_CANCELED: this caller broke the barrier. MTASK_BROKEN: another one did, or
   the action failed, or it was reset or aborted. MTASK_INVALID: negative timeout, or a barrier that
   was never initialised. MTASK_SYSTEM (breaks it, too). */
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
   again. 4 bytes. bits 0-27  number of readers that hold it bit 28     WRITE: a writer holds it bit
   29     WRITERS_WAIT: a writer may be asleep; readers keep out bit 30     READERS_WAIT: readers
   may be asleep bit 31     SHARED */
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

/* Runs something exactly once, however many ask. 4 bytes: 0 NEW, 1 RUNNING, 2 RUNNING and somebody
   may be asleep, 3 DONE; bit 31 SHARED. */
typedef struct mtask_once_flag {
    mtask_word word;
} mtask_once_flag;

# define MTASK__ONCE_DONE ((mtask_word)3)

/* Makes one that has not run. `flags`: MTASK_PRIVATE or MTASK_SHARED. MTASK_INVALID,
   MTASK_UNSUPPORTED. */
MTASK_API mtask_status mtask_once_init(mtask_once_flag *once, int flags);

MTASK_API mtask_status mtask__once_slow(mtask_once_flag *once, mtask_fn fn, void *arg);

/* Runs fn(arg) if nobody has; blocks while another task runs it. MTASK_OK: it has run, and what it
   wrote is visible. MTASK_FAILED: it failed in this call (mtask_fail); the next caller will try
   again. MTASK_SYSTEM. Calling it again from inside `fn` waits for itself, for ever. */
MTASK__INLINE mtask_status mtask_once(mtask_once_flag *once, mtask_fn fn, void *arg) {
    if (MTASK__LIKELY((mtask__load(&once->word, ACQUIRE) & 3) == MTASK__ONCE_DONE))
        return MTASK_OK; /* acquire: pairs with the release in mtask__once_slow */
    return mtask__once_slow(once, fn, arg);
}

/* Whether it has run. */
MTASK__INLINE bool mtask_once_is_done(const mtask_once_flag *once) {
    return (mtask__load(&once->word, ACQUIRE) & 3) == MTASK__ONCE_DONE; /* as in mtask_once */
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
   MTASK_OK; MTASK_CANCELED: do not start; MTASK_INVALID: it runs already, or is finished. */
MTASK_API mtask_status mtask_future_begin(mtask_future *future);

/* Finishes it with a value, wakes all who wait and runs the callbacks, here, in the order in which
   they were added. MTASK_OK. MTASK_CANCELED (it was cancelled) and MTASK_INVALID (it was finished):
   nothing happened, the value stays the caller's. */
MTASK_API mtask_status mtask_future_set(mtask_future *future, void *value);

/* Finishes it with a failure, status and text as in mtask_fail; otherwise as mtask_future_set. */
MTASK_API mtask_status mtask_future_fail(mtask_future *future, mtask_status status,
                                         const char *format, ...) MTASK__PRINTF(3, 4);

/* Blocks until it is finished or cancelled, at most `timeout` nanoseconds; fills `outcome` (NULL
   allowed). MTASK_OK: it has a value, which is now the caller's concern, not free_value's.
   MTASK_FAILED: outcome->status and text say why. MTASK_CANCELED: it was cancelled, or the
   calling coroutine was. MTASK_TIMEOUT, MTASK_INVALID (negative), MTASK_SYSTEM. */
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
   has. Callbacks run in the order in which they were added. The future lives while they run.
   MTASK_NOMEM. */
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
   the array, no such mode), MTASK_NOMEM (more than 16), MTASK_SYSTEM. */
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
    bool foreign;               /* not started by mtask; it cannot be joined */
    char name[MTASK_NAME_SIZE]; /* "MainThread", "Thread-1", "Dummy-2" for a foreign one */
} mtask_thread_info;

/* A handle on a thread, in the caller's memory; zero it first. Join it or detach it: either gives
   back all that belongs to the thread. Then it can be started again. Do not copy it. */
typedef struct mtask_thread {
    mtask_mutex lock;            /* guards the rest */
    struct mtask__thread *block; /* NULL: not started, or joined, or detached */
    mtask_thread_info info;      /* the last look at it */
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

/* The thread's name; it lies in the handle, until the next call with this handle. */
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
   the main thread and foreign threads are not waited for. Handles stay to be joined. MTASK_OK,
   MTASK_TIMEOUT, MTASK_CANCELED, MTASK_INVALID (negative), MTASK_SYSTEM. */
MTASK_API mtask_status mtask_thread_join_all(int64_t timeout);

/* ---- >>local: threading.local ---- */

/* A value of which each thread has its own, NULL at first. */
typedef struct mtask_local {
    mtask_word key; /* the system's key, plus one; 0: not initialised */
} mtask_local;

/* Makes one. `destructor` (NULL: none) frees a thread's value when the thread ends.
   MTASK_SYSTEM: the system has no more keys (errno EAGAIN); MTASK_INVALID: initialised already;
   MTASK_NOMEM. */
MTASK_API mtask_status mtask_local_init(mtask_local *local, void (*destructor)(void *value));

/* Gives the key back; no thread may use it any more. Values that are left are not destroyed.
   MTASK_INVALID: not initialised. */
MTASK_API mtask_status mtask_local_deinit(mtask_local *local);

/* The calling thread's value; NULL if it has none. */
MTASK_API void *mtask_local_get(const mtask_local *local);

/* Sets the calling thread's value; the old one is the caller's to free. MTASK_NOMEM;
   MTASK_INVALID: not initialised. */
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
    mtask_word state;          /* 0 idle, 1 pending, 2 running; see the implementation */
    bool fired;                /* it ran to its end since it was last started */
} mtask_timer;

/* Runs fn(arg) once, after `delay` nanoseconds, in the timer thread; what it returns is dropped.
   The timer must stay where it is until it has fired or is cancelled. It may be started again from
   its own function. MTASK_INVALID: it is pending, no fn, negative delay. MTASK_NOMEM,
   MTASK_SYSTEM. */
MTASK_API mtask_status mtask_timer_start(mtask_timer *timer, int64_t delay, mtask_fn fn, void *arg);

/* Cancels it. MTASK_OK: it had not begun and will not run. MTASK_DONE: it has run, or was never
   started. MTASK_TIMEOUT: it is running, and had not ended within `timeout` nanoseconds (with
   MTASK_NOWAIT: it is running now). After MTASK_OK and MTASK_DONE the timer may be freed.
   MTASK_DEADLOCK: called from its own function. MTASK_INVALID (negative), MTASK_CANCELED,
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
   counts as locked for MTASK_GUARD (see `name.status`), while MTASK_WITH skips its block. longjmp
   out of the scope does not unlock in C. */
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

/* More flags of waiting and waking. A waiter of a class is woken by wakes for that class and by
   those for none; where a system cannot tell classes apart, more are woken than need be. */
enum {
    MTASK__NOPARK = 1 << 8,   /* block the thread, even where a coroutine could be parked */
    MTASK__NOCANCEL = 1 << 9, /* not a cancellation point */
    MTASK__CLASS_1 = 1 << 10,
    MTASK__CLASS_2 = 1 << 11,
    MTASK__CLASSES = MTASK__CLASS_1 | MTASK__CLASS_2
};

/* A task: what fails, has a number and can be parked. One for each thread, one for each coroutine.
 */
typedef struct mtask__task {
    uint64_t id;
    struct mtask__parker *parker; /* how it waits; NULL: its thread blocks */
    mtask_status fail_status;     /* of the last mtask_fail */
    char fail_text[MTASK_TEXT_SIZE];
} mtask__task;

/* A parked task in the parking table. It lies on the stack of the task. */
typedef struct mtask__waiter {
    struct mtask__waiter *next; /* these five are guarded by the lock of the bucket */
    struct mtask__waiter *prev;
    const mtask_word *word;
    int flags;
    bool queued;
    struct mtask__parker *parker;
} mtask__waiter;

/* How a task waits that is not simply a thread: the hook of an event loop. */
typedef struct mtask__parker {
    /* Suspends the task until post is called for `waiter` (MTASK_OK). To end the wait before, at
       `deadline` (absolute; MTASK_FOREVER) or by cancellation (unless MTASK__NOCANCEL is in
       waiter->flags), call mtask__unpark(waiter): true: it is out, return MTASK_TIMEOUT or
       MTASK_CANCELED; false: a waker has it, post is sure to come, wait for that. */
    mtask_status (*park)(struct mtask__parker *parker, mtask__waiter *waiter, int64_t deadline);
    /* Keeps the loop alive until the post that follows; NULL: not needed. Called with a bucket
       locked: must not block, allocate, wait or wake. */
    void (*pin)(struct mtask__parker *parker);
    /* Makes the task runnable, from any thread, then unpins. Called once for each waiter that was
       woken; the waiter, and after the unpin the parker, may be gone when it returns. */
    void (*post)(struct mtask__parker *parker, mtask__waiter *waiter);
} mtask__parker;

/* Gives a task a number of its own and clears it. */
MTASK_API void mtask__task_init(mtask__task *task, mtask__parker *parker);

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

/* Takes a waiter out of the parking table. True if it was still in: nobody will post it. */
MTASK_API bool mtask__unpark(mtask__waiter *waiter);

# ifdef __cplusplus
} /* extern "C" */
# endif

#endif /* MTASK_H */
