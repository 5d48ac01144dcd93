/* mtask_coro.h 0.6.0 - coroutines, generators and event loops for C

   Python's generators, `greenlet`, and what schedules `gevent` and `asyncio`, in one header: a
   switch of a few nanoseconds, stacks that take one page each, and loops on which a million tasks
   wait. Nothing has to be learned twice: every lock, condition, event, queue, future and sleep of
   mtask.h, mtask_queue.h and mtask_pool.h works unchanged in a task of a loop, and parks that task
   instead of the thread. So threads and coroutines share them.

   USE
     Copy this file and mtask.h. In ONE .c (or .cpp) file, before any other include:

         #define MTASK_IMPLEMENTATION
         #include "mtask_coro.h"

     and in the others just `#include "mtask_coro.h"`. Compile with -pthread.

   EXAMPLE (cc -O2 -pthread example.c)

         #define MTASK_IMPLEMENTATION
         #include "mtask_coro.h"
         #include <stdio.h>

         static void *count(void *to) { // a generator
             for (long i = 1; i <= *(long *)to; i++)
                 if (mtask_coro_yield(&i, NULL) != MTASK_OK)
                     break; // it is being closed
             return NULL;
         }

         static void *hello(void *name) { // a task
             mtask_sleep(MTASK_SEC(1)); // parks this task, not the thread
             printf("hello %s\n", (char *)name);
             return NULL;
         }

         static void *program(void *arg) { // three tasks that sleep for one second together
             for (int i = 0; i < 3; i++)
                 mtask_go(hello, arg, NULL);
             return mtask_sleep(MTASK_SEC(2)) == MTASK_OK ? arg : NULL;
         }

         int main(void) {
             mtask_coro *numbers;
             long three = 3;
             if (mtask_coro_create(&numbers, count, &three) != MTASK_OK)
                 return 1;
             MTASK_FOREACH(n, numbers)
                 printf("%ld\n", *(long *)n);
             mtask_coro_destroy(numbers);
             return mtask_loop_run(program, (void *)"world", NULL);
         }

   TWO LAYERS
     A coroutine (>>coro) is a function with a stack of its own that is resumed by hand, and yields.
     While it runs it is part of the task that resumed it: it has that task's number, locks and
     failures, and if it waits, that task waits. Without a loop it needs no thread and no system:
     MTASK_CORO_NO_LOOP leaves the rest away.
     A task (>>loop) is a coroutine that its loop runs whenever it can go on. Each loop belongs to
     one thread; a thread runs one loop; a process as many as it likes. A task stays on its loop.

   WHAT HOLDS FOR TASKS
     - A task that waits in any call of mtask is parked, and the others go on. A task that blocks
       otherwise (a read, a long computation) keeps the whole loop waiting: read by mtask_io.h, and give
       other such work to a thread or a pool and wait for its future.
     - Tasks run in the order in which they became ready. None is interrupted: between two calls
       that may wait, nothing else happens on that loop.
     - Cancellation stays: once a task is cancelled (mtask_future_cancel on its future, a group or a
       loop that ends), each of its waits answers MTASK_CANCELED, though it lets the others run
       first, until it returns; mtask_shield_begin holds that off during clean-up. Waits that are no
       cancellation points, such as mtask_mutex_lock, just go on. Who was woken and cancelled at once
       is woken; the next wait tells of the cancellation. A wait that need not wait does not look.
     - A wait on an object between processes (MTASK_SHARED) is done by one helper thread of the
       process (Linux 5.16 or later; elsewhere such a wait answers MTASK_UNSUPPORTED).
     - errno is a task's own.
     - After fork() the child has no loop: what it calls there blocks, mtask_go and others answer
       MTASK_BROKEN, and the task that called fork, if it returns in the child, returns from
       mtask_loop_run there with MTASK_BROKEN. Memory of the other tasks is left as it is.

   STACKS
     Each is 256 KiB (MTASK_CORO_STACK) of address space, of which the system commits what is used:
     4 KiB at first. They come in slabs and are reused, last freed first. Below each lies a guard that
     ends the program by SIGSEGV if a stack overflows; where the system can make no more guards, new
     stacks go without and are counted (mtask_coro_stacks). glibc's printf of floating point needs
     about 8 KiB of stack, getaddrinfo much more.

   NOT DONE HERE
     A coroutine may be resumed by different threads in turn, if nothing of the compiler's keeps the
     address of a thread-local variable across a yield: best let each stay on one thread. Leaving a
     coroutine by longjmp or by a C++ exception is not possible; catch them inside, and do not yield
     in a catch block. A function that is compiled for a larger instruction set than its file (by an
     attribute, for AVX-512) must resume and yield through another function. Hardware shadow
     stacks (x86 CET SHSTK): mtask_coro_create answers MTASK_UNSUPPORTED while they are in force.

   CONTENTS: grep for the tag.
     >>coro  >>stacks  >>loop  >>cancel  >>taskgroup  >>coro-local  >>host  >>dump  >>context
     implementation: >>coro-contract  >>coro-state  >>stack-pool  >>census  >>loop-contract
     >>loop-state  >>timers  >>run  >>wait-hook  >>task-end  and the same again
     platforms: >>context-amd64  >>context-native  >>context-i386  >>context-aarch64  >>context-arm
     >>context-riscv  >>posix-ucontext  >>posix-stacks  >>posix-none  >>posix-poller  >>linux-poller
     >>linux-shared  >>posix-shared

   OPTIONS (define them before the include, the same in every file)
     MTASK_CORO_STACK        bytes of a stack by default (default: 262144)
     MTASK_CORO_NO_LOOP      coroutines alone, without loops (as with MTASK_NO_THREADS and
                             MTASK_PLATFORM_CUSTOM)
     MTASK_CORO_UCONTEXT     switch by makecontext, setjmp and longjmp instead of assembly; keeps the
                             modes of floating point apart only on x86
     MTASK_CORO_MXCSR 1      on x86-64, also keep apart what <fenv.h> does not know: flush to zero,
                             denormals are zero, modes set by _mm_setcsr alone (default: 0, these
                             belong to the thread; what <fenv.h> sets belongs to each coroutine and
                             task, which begins with its creator's)
     MTASK_CORO_NO_FPU       do not keep any modes of floating point apart
     MTASK_CORO_CHECK        look after each switch whether the stack overflowed: MTASK_OVERFLOW
     MTASK_CORO_CENSUS       count how much stack is used, by the places that create coroutines
     MTASK_LOOP_POLL         wait for descriptors by poll instead of epoll
     and those of mtask.h. MTASK_CORO_IMPLEMENTATION instead of MTASK_IMPLEMENTATION implements this
     header alone, in a file other than the one that implements mtask.h.

   LICENCE: MIT or public domain, at your choice; see the end of mtask.h. */

#include "mtask.h"

#ifndef MTASK_CORO_H
# define MTASK_CORO_H

# if (defined(MTASK_NO_THREADS) || defined(MTASK_PLATFORM_CUSTOM)) && !defined(MTASK_CORO_NO_LOOP)
#  define MTASK_CORO_NO_LOOP
# endif
# ifndef MTASK_CORO_STACK
#  define MTASK_CORO_STACK 262144
# endif
# ifndef MTASK_CORO_CHECK
#  define MTASK_CORO_CHECK 0
# endif
# ifndef MTASK_CORO_MXCSR
#  define MTASK_CORO_MXCSR 0
# endif
# ifndef MTASK_CORO_CENSUS
#  define MTASK_CORO_CENSUS 0
# endif

# ifdef __cplusplus
extern "C" {
# endif

/* ---- >>coro: generators and greenlets ---- */

/* A function with a stack of its own that is resumed, yields, and is resumed again. One thread at a
   time uses it. */
typedef struct mtask_coro mtask_coro;

/* How to make one. */
typedef struct mtask_coro_desc {
    mtask_fn fn;       /* what it runs (required) */
    void *arg;         /* with what */
    const char *name;  /* for people; not copied (default: "") */
    void *stack;       /* memory for its stack and for all that belongs to it: the caller's, in use
                          until it is destroyed (default: a stack of mtask's) */
    size_t stack_size; /* bytes, at least MTASK_CORO_STACK_MIN; of mtask's own rounded up to a power
                          of two, in which the guard is (default: MTASK_CORO_STACK) */
    const char *site;  /* for the census; not copied (default: where mtask_coro_create stands in
                          builds with MTASK_CORO_CENSUS) */
} mtask_coro_desc;

# define MTASK_CORO_STACK_MIN 2048 /* bytes; enough for functions that call no library */

/* What a coroutine is doing. */
typedef enum mtask_coro_state {
    MTASK_CORO_CREATED,   /* it was never resumed */
    MTASK_CORO_SUSPENDED, /* it has yielded */
    MTASK_CORO_RUNNING,   /* it runs */
    MTASK_CORO_WAITING,   /* it has resumed another one, which runs or waits likewise */
    MTASK_CORO_ENDED      /* it has returned, failed or was closed */
} mtask_coro_state;

/* Makes a coroutine that is going to run fn(arg). Destroy it. MTASK_INVALID (no fn; a stack that is
   too small), MTASK_NOMEM, MTASK_UNSUPPORTED (hardware shadow stacks; or no stack was given, and
   the system supplies none). Does not block. */
MTASK_API mtask_status mtask_coro_create(mtask_coro **coro, mtask_fn fn, void *arg);

/* The same, as the description says. */
MTASK_API mtask_status mtask_coro_create_ex(mtask_coro **coro, const mtask_coro_desc *desc);

/* Runs it until it yields or ends. `in` is what its pending yield receives (the first time:
   nobody); *out (NULL allowed) becomes what it yields or returns. MTASK_OK: it has yielded.
   MTASK_DONE: it has returned. MTASK_FAILED: it returned by mtask_fail; mtask_failure and
   mtask_coro_outcome say why; *out is NULL. MTASK_CLOSED: it had ended before. MTASK_INVALID: it is
   running, or waits for one that it has resumed; *out is NULL then. MTASK_OVERFLOW
   (MTASK_CORO_CHECK): it has left the bounds of its stack, and must not be resumed. */
MTASK__INLINE mtask_status mtask_coro_resume(mtask_coro *coro, void *in, void **out);

/* Hands `out` to the one who resumed the calling coroutine, and waits to be resumed; *in (NULL
   allowed) becomes what that brings, NULL unless MTASK_OK. MTASK_OK. MTASK_CANCELED: the coroutine
   is being closed: clean up and return (from now on each yield answers this at once).
   MTASK_INVALID: not in a coroutine. */
MTASK__INLINE mtask_status mtask_coro_yield(void *out, void **in);

/* greenlet's switch: suspends the calling coroutine and runs `coro` in its place, so that whoever
   resumed the one hears of the other when that yields or ends. `in` and the suspended `coro`: as in
   mtask_coro_resume. Returns when the caller is resumed or transferred to: *out (NULL allowed) and
   the status are as in mtask_coro_yield. Outside of a coroutine it is mtask_coro_resume. Also
   MTASK_CLOSED and MTASK_INVALID of mtask_coro_resume. */
MTASK_API mtask_status mtask_coro_transfer(mtask_coro *coro, void *in, void **out);

/* Ends it: its pending yield, and all later ones, answer MTASK_CANCELED, and it runs until it
   returns; if it was never resumed it never runs. MTASK_OK: it has ended (also if it had before).
   MTASK_FAILED: it ended by mtask_fail (with another status than MTASK_CANCELED). MTASK_INVALID: it
   is running, or waits. MTASK_OVERFLOW as in mtask_coro_resume. */
MTASK_API mtask_status mtask_coro_close(mtask_coro *coro);

/* Frees it. NULL is allowed. MTASK_INVALID: it is in the middle of its function: close it first.
   Nothing happened. */
MTASK_API mtask_status mtask_coro_destroy(mtask_coro *coro);

/* What it is doing. */
MTASK_API mtask_coro_state mtask_coro_status(const mtask_coro *coro);

/* How it ended, as for a thread: MTASK_OK, MTASK_FAILED (outcome->status and text say why),
   MTASK_CANCELED (it was closed before its first run); MTASK_INVALID: it has not ended. */
MTASK_API mtask_status mtask_coro_outcome(const mtask_coro *coro, mtask_outcome *outcome);

/* The coroutine that is running on this thread; NULL outside, and in a task of a loop as such. */
MTASK_API mtask_coro *mtask_coro_current(void);

/* Its name; never NULL. */
MTASK_API const char *mtask_coro_name(const mtask_coro *coro);

/* Python's next(): resumes it with NULL; true if it yielded, and *item is what. False: it has ended
   or cannot run; mtask_coro_status and mtask_coro_outcome tell. */
MTASK__INLINE bool mtask_coro_next(mtask_coro *coro, void **item);

/* Runs the statement that follows once for each item that the generator yields; `item` is a void *
   of that statement. After a `break` the generator is still suspended. */
# define MTASK_FOREACH(item, generator)                                                            \
  for (void *item = NULL; mtask_coro_next((generator), &(item));)

/* ---- >>stacks: what they take ---- */

/* The stacks that mtask has made for coroutines and tasks. */
typedef struct mtask_coro_stack_info {
    size_t in_use;    /* how many have an owner */
    size_t free;      /* how many are kept for the next one */
    size_t unguarded; /* how many were made without a guard */
    size_t reserved;  /* bytes of address space, all together */
} mtask_coro_stack_info;

/* Counts them. Those that other threads keep for themselves count as in use. Does not block for
   long. */
MTASK_API mtask_coro_stack_info mtask_coro_stacks(void);

/* Bytes of stack that are left to the caller, above the guard: of its coroutine or task; SIZE_MAX
   on a thread's own stack. */
MTASK_API size_t mtask_coro_stack_left(void);

/* Of all coroutines and tasks that a place has created and that have ended (MTASK_CORO_CENSUS). */
typedef struct mtask_coro_site {
    const char *site;  /* "file.c:12", or what the description said */
    const char *name;  /* of the last one */
    size_t count;      /* how many have ended */
    size_t stack_size; /* bytes of the smallest of their stacks */
    size_t stack_used; /* bytes, of the one that used most: the high-water mark */
} mtask_coro_site;

/* Writes them, at most `capacity`; `count` receives how many there are. MTASK_OK; MTASK_OVERFLOW:
   more than fit; MTASK_UNSUPPORTED without MTASK_CORO_CENSUS. */
MTASK_API mtask_status mtask_coro_census(mtask_coro_site *sites, size_t capacity, size_t *count);

# ifndef MTASK_CORO_NO_LOOP

/* ---- >>loop: tasks that take turns on one thread ---- */

/* A loop: one thread runs it. */
typedef struct mtask_loop mtask_loop;

/* How to make a loop. Zero, or NULL, means the default. */
typedef struct mtask_loop_desc {
    const char *name;  /* for people; copied (default: "Loop-N") */
    size_t stack_size; /* of its tasks (default: MTASK_CORO_STACK) */
    /* No other thread or process and no signal handler ever wakes a task of this loop: so if all of
       them wait and nothing is left that could end a wait, it is a dead-lock: each of these waits
       ends, with MTASK_DEADLOCK unless what it waits for has come meanwhile, and so does
       mtask_loop_run, whose outcome's text says who waits on what (default: the loop sleeps until
       it is woken). */
    bool no_external_wakers;
    /* Called on the loop's thread when that has been found, before the waits end: mtask_loop_dump
       shows all (default: none). Must not wait. */
    void (*on_deadlock)(mtask_loop *loop, void *ctx);
    void *ctx; /* for on_deadlock */
} mtask_loop_desc;

/* Runs fn(arg) as a task of a new loop of the calling thread, and returns when it has ended; tasks
   that are left then are cancelled and waited for. `outcome` (NULL allowed) says how fn ended.
   MTASK_OK; MTASK_FAILED: fn failed. MTASK_DEADLOCK: see mtask_loop_desc. MTASK_INVALID: no fn, or
   this thread runs a loop already. MTASK_NOMEM, MTASK_SYSTEM, MTASK_UNSUPPORTED: it could not
   begin. MTASK_BROKEN: in the child of a process that a task of it has forked. */
MTASK_API mtask_status mtask_loop_run(mtask_fn fn, void *arg, mtask_outcome *outcome);

/* The same, on a loop as the description says. */
MTASK_API mtask_status mtask_loop_run_ex(mtask_fn fn, void *arg, mtask_outcome *outcome,
                                         const mtask_loop_desc *desc);

/* The loop that the calling thread runs; NULL if none. */
MTASK_API mtask_loop *mtask_loop_current(void);

/* How to start a task. */
typedef struct mtask_go_desc {
    mtask_fn fn;           /* what it runs (required) */
    void *arg;             /* with what */
    const char *name;      /* for people; not copied (default: "") */
    mtask_loop *loop;      /* where (default: the loop of the calling thread) */
    size_t stack_size;     /* (default: as the loop's description says) */
    mtask_future **future; /* receives a reference on its result (default: nobody asks) */
    bool now; /* it runs at once, and the caller goes on when it first waits; only from a task
                              of the same loop (default: when its turn comes) */
    const char *site; /* for the census; not copied */
} mtask_go_desc;

/* Starts fn(arg) as a task of the calling thread's loop; it runs when its turn comes. `future`
   (NULL: detached) receives a reference on its result. mtask_future_cancel cancels the task: one
   that has not begun never runs; one that has is told by its waits, and ends when it returns.
   MTASK_INVALID: no fn, or this thread runs no loop. MTASK_NOMEM. MTASK_CLOSED: the loop is ending.
   MTASK_BROKEN: in the child of a fork. MTASK_UNSUPPORTED as mtask_coro_create. Does not wait. */
MTASK_API mtask_status mtask_go(mtask_fn fn, void *arg, mtask_future **future);

/* The same, as the description says. From a thread other than the loop's: as mtask_loop_go. */
MTASK_API mtask_status mtask_go_ex(const mtask_go_desc *desc);

/* Starts fn(arg) as a task of `loop`, from any thread; the loop must not end before this returns.
   Otherwise as mtask_go. */
MTASK_API mtask_status mtask_loop_go(mtask_loop *loop, mtask_fn fn, void *arg,
                                     mtask_future **future);

/* Lets the other tasks of the loop that are ready run first; outside of a loop, other threads.
   MTASK_OK; MTASK_CANCELED: the task is cancelled. */
MTASK_API mtask_status mtask_yield(void);

/* A function to be called on a loop's thread: zero it, set fn and arg. */
typedef struct mtask_loop_call {
    void (*fn)(void *arg);
    void *arg;
    struct mtask_loop_call *next; /* the rest is mtask's */
    mtask_word posted;
} mtask_loop_call;

/* Has call->fn(call->arg) called soon on the loop's thread, between two tasks, from any thread or
   signal handler: the one function of mtask that is async-signal-safe. It must not wait. `call`
   stays in use until it is called, and may be posted again from then on; one that is posted already
   is called once. The loop must not end before this returns; what it has not called when it ends is
   not called any more. MTASK_OK; MTASK_INVALID (no fn); MTASK_BROKEN: in the child of a fork. */
MTASK_API mtask_status mtask_loop_post(mtask_loop *loop, mtask_loop_call *call);

/* ---- >>cancel: cancellation, time limits ---- */

/* Whether waits of the calling task answer MTASK_CANCELED now: it has been cancelled, or a limit
   that it has set has passed, and no shield holds that off. */
MTASK_API bool mtask_canceled(void);

/* From here to the matching end, waits of the calling task are not cancelled: for clean-up. Only
   limits that begin in between cut them short. They nest. No effect outside of a loop. */
MTASK_API void mtask_shield_begin(void);
MTASK_API void mtask_shield_end(void);

/* From here to the matching end, waits of the calling task block its thread, and so the loop: for
   code that holds a lock of somebody else's, which other threads need. They nest. */
MTASK_API void mtask_nopark_begin(void);
MTASK_API void mtask_nopark_end(void);

/* A limit of time on what a task does; it lies on the task's stack. */
typedef struct mtask_limit {
    struct mtask_limit *outer;
    int64_t deadline;
    bool canceled;    /* it has been reached, or was cancelled by hand */
    bool told;        /* a wait has ended because of it */
    unsigned shields; /* begun so far: only these hold it off that begin within */
    struct mtask__strand *task;
} mtask_limit;

/* asyncio.timeout(): from here to mtask_limit_end, once `timeout` nanoseconds have passed, waits of
   the calling task answer MTASK_CANCELED, as if the task had been cancelled. Limits nest. MTASK_OK;
   MTASK_INVALID: negative, or not in a task of a loop. */
MTASK_API mtask_status mtask_limit_begin(mtask_limit *limit, int64_t timeout);

/* Sets a new time, counted from now, for a limit that has not been reached. MTASK_OK;
   MTASK_INVALID. */
MTASK_API mtask_status mtask_limit_set(mtask_limit *limit, int64_t timeout);

/* Ends the innermost limit. MTASK_TIMEOUT: it has cut a wait short. MTASK_OK: it has not.
   MTASK_INVALID: it is not the innermost one. */
MTASK_API mtask_status mtask_limit_end(mtask_limit *limit);

/* asyncio.wait_for(): runs fn(arg) in the calling task under such a limit; `outcome` (NULL allowed)
   says how it ended. MTASK_TIMEOUT: the limit has cut a wait short; otherwise MTASK_OK,
   MTASK_FAILED, or as mtask_limit_begin. */
MTASK_API mtask_status mtask_with_timeout(int64_t timeout, mtask_fn fn, void *arg,
                                          mtask_outcome *outcome);

/* ---- >>taskgroup: asyncio.TaskGroup, gather ---- */

/* Tasks that end before the block that started them does; it lies on the stack of the task that
   begins it, its owner. */
typedef struct mtask_taskgroup {
    mtask_limit limit;           /* by which the owner's waits are cut short */
    struct mtask__strand *first; /* those that have not ended */
    mtask_word pending;          /* how many they are */
    mtask_word canceled;         /* all of it has been */
    mtask_outcome failure;       /* the first one; its status is MTASK_OK: none */
} mtask_taskgroup;

/* Begins a group; until it ends, the failure of any of its tasks (by another status than
   MTASK_CANCELED) cancels the other ones, and the waits of the owner. MTASK_INVALID: not in a task
   of a loop. */
MTASK_API mtask_status mtask_taskgroup_begin(mtask_taskgroup *group);

/* Starts a task in the group, from its owner or from a task of it; as mtask_go. MTASK_CANCELED: the
   group is cancelled. */
MTASK_API mtask_status mtask_taskgroup_go(mtask_taskgroup *group, mtask_fn fn, void *arg,
                                          mtask_future **future);

/* Cancels all its tasks, and the waits of its owner up to the end of the group; from any task of
   that loop. */
MTASK_API void mtask_taskgroup_cancel(mtask_taskgroup *group);

/* How many of its tasks have not ended. */
MTASK_API size_t mtask_taskgroup_pending(const mtask_taskgroup *group);

/* Ends the group: waits until all its tasks have ended, always; if the owner is cancelled while it
   waits, it cancels them. MTASK_OK: none failed. MTASK_FAILED: `outcome` (NULL allowed) tells of
   the first that did. MTASK_CANCELED: the group or its owner was cancelled. MTASK_INVALID: it is
   not the innermost group or limit of the caller. */
MTASK_API mtask_status mtask_taskgroup_end(mtask_taskgroup *group, mtask_outcome *outcome);

/* A function and what it is called with. */
typedef struct mtask_call {
    mtask_fn fn;
    void *arg;
} mtask_call;

/* asyncio.gather, gevent.joinall: runs all `count` calls as tasks of a group, and waits for all;
   outcomes[i] (NULL: not wanted) is how calls[i] ended. The first that fails cancels the others.
   MTASK_OK: all returned. MTASK_FAILED: one failed. MTASK_CANCELED: the caller was cancelled.
   MTASK_INVALID, MTASK_NOMEM: the rest was not started, or was cancelled; all have ended. */
MTASK_API mtask_status mtask_gather(const mtask_call *calls, size_t count, mtask_outcome *outcomes);

/* ---- >>coro-local: values of a task ---- */

/* A value of which each task of a loop has its own, NULL at first; outside of a loop, each thread. */
typedef struct mtask_coro_local {
    mtask_local thread;
    void (*destructor)(void *value);
} mtask_coro_local;

/* Makes one. `destructor` (NULL: none) frees a task's value when the task ends, in the task. As
   mtask_local_init. */
MTASK_API mtask_status mtask_coro_local_init(mtask_coro_local *local,
                                             void (*destructor)(void *value));

/* As mtask_local_deinit; no task that has a value may be left. */
MTASK_API mtask_status mtask_coro_local_deinit(mtask_coro_local *local);

/* The calling task's value; NULL if it has none. */
MTASK_API void *mtask_coro_local_get(const mtask_coro_local *local);

/* Sets the calling task's value; the old one is the caller's to free. MTASK_NOMEM, MTASK_INVALID
   (not initialised). */
MTASK_API mtask_status mtask_coro_local_set(mtask_coro_local *local, void *value);

/* ---- >>host: a loop inside another event loop ---- */

/* Makes a loop that the calling thread runs by mtask_loop_step. Destroy it. As mtask_loop_run_ex. */
MTASK_API mtask_status mtask_loop_create(mtask_loop **loop, const mtask_loop_desc *desc);

/* Runs some of what is ready, each task once or less; if nothing was, waits up to `timeout` for
   something that is, and runs that. Not in a task. MTASK_OK: some tasks are left. MTASK_DONE: none
   is. MTASK_TIMEOUT: nothing was ready. MTASK_DEADLOCK as mtask_loop_run. MTASK_INVALID: negative,
   another thread's loop, called in a task. MTASK_SYSTEM. MTASK_BROKEN: in the child of a fork. */
MTASK_API mtask_status mtask_loop_step(mtask_loop *loop, int64_t timeout);

/* A descriptor that is readable while mtask_loop_step has something to do, timers and descriptors
   that its tasks wait for included: put it into the host's own poll set, and call
   mtask_loop_step(loop, MTASK_NOWAIT) then. With MTASK_LOOP_POLL (and MTASK_FORCE_POSIX) it tells
   neither of timers (see mtask_loop_next) nor of descriptors. It belongs to the loop. */
MTASK_API mtask_status mtask_loop_fd(mtask_loop *loop, int *fd);

/* When mtask_loop_step next has something to do by itself, as a deadline: 0 if now, MTASK_FOREVER
   if only something from outside can bring it. */
MTASK_API int64_t mtask_loop_next(const mtask_loop *loop);

/* How many tasks have not ended. */
MTASK_API size_t mtask_loop_pending(const mtask_loop *loop);

/* Cancels all tasks of the calling thread's loop. */
MTASK_API void mtask_loop_cancel(mtask_loop *loop);

/* Cancels what is left, runs until all of it has ended, and frees the loop. NULL is allowed. From
   the thread that created it, not in a task. MTASK_INVALID, MTASK_DEADLOCK (found on the way; the
   loop is freed). */
MTASK_API mtask_status mtask_loop_destroy(mtask_loop *loop);

/* ---- >>dump: what a loop is doing ---- */

/* A task of a loop, as seen now. */
typedef struct mtask_task_info {
    uint64_t id;            /* as mtask_task_id there */
    const char *name;       /* lives as long as its maker keeps it */
    const char *state;      /* "running", "ready", "waiting", "sleeping" */
    const mtask_word *word; /* on which it waits; NULL if it does not */
    int fd;                 /* the (first) descriptor for which it waits; -1 if it does not */
    int64_t since;          /* how long it has been in that state, in nanoseconds */
    int64_t left;           /* until its wait ends by itself; MTASK_FOREVER */
    size_t stack_size;      /* bytes */
    size_t stack_used;      /* bytes that are in use now, or were when it last ran */
    bool canceled;
} mtask_task_info;

/* Writes the tasks of the calling thread's loop, oldest first, at most `capacity`; `count` receives
   how many there are. MTASK_OK; MTASK_OVERFLOW: more than fit. */
MTASK_API mtask_status mtask_loop_tasks(const mtask_loop *loop, mtask_task_info *infos,
                                        size_t capacity, size_t *count);

/* Writes the same for people, a line for each task, to a descriptor. MTASK_OK; MTASK_SYSTEM. */
MTASK_API mtask_status mtask_loop_dump(const mtask_loop *loop, int fd);

# endif /* MTASK_CORO_NO_LOOP */

/* ---- >>context: what a switch is made of; not for users ---- */

/* Where the one-way trip of a switch leads: what a suspended flow of control must find again. All
   registers that are not in it are in its stack, or need not be kept. */
# if defined(__SANITIZE_ADDRESS__)
#  define MTASK__CORO_ASAN 1
# elif defined(__has_feature)
#  if __has_feature(address_sanitizer)
#   define MTASK__CORO_ASAN 1
#  endif
# endif
# ifndef MTASK__CORO_ASAN
#  define MTASK__CORO_ASAN 0
# endif
# define MTASK__CORO_WATCHED (MTASK__CORO_ASAN || MTASK__TSAN) /* sanitizers are told of switches */

/* How this CPU switches; INLINE: by code that the compiler puts where the switch is. */
# if !defined(MTASK_CORO_UCONTEXT) && defined(__x86_64__) && defined(__LP64__)
#  define MTASK__CORO_X86_64 1
# else
#  define MTASK__CORO_X86_64 0
# endif
# if !defined(MTASK_CORO_UCONTEXT) && defined(__ELF__) &&                                          \
     (defined(__i386__) || (defined(__aarch64__) && defined(__LP64__)) || defined(__arm__) ||      \
      defined(__riscv))
#  define MTASK__CORO_NATIVE 1 /* by a function in assembly */
# else
#  define MTASK__CORO_NATIVE 0
# endif
# define MTASK__CORO_INLINE (MTASK__CORO_X86_64 && !MTASK__CORO_WATCHED)

/* Files that keep contexts in different forms do not link: see MTASK__BUILD. */
# ifndef MTASK_STATIC
#  if MTASK__CORO_WATCHED
#   define MTASK__CORO_BUILD mtask_coro_0_6_0_built_with_a_sanitizer
#  elif defined(MTASK_CORO_UCONTEXT)
#   define MTASK__CORO_BUILD mtask_coro_0_6_0_built_with_MTASK_CORO_UCONTEXT
#  else
#   define MTASK__CORO_BUILD mtask_coro_0_6_0_built_as_usual
#  endif
MTASK_API const char MTASK__CORO_BUILD;
static const char *const mtask__coro_build __attribute__((used)) = &MTASK__CORO_BUILD;
# endif

typedef struct mtask__context {
    void *words[4]; /* x86-64: rip, rsp, rbp, rbx; elsewhere see the platforms */
    uint32_t mxcsr; /* the modes of floating point (x86) */
    uint32_t x87;
# if MTASK__CORO_WATCHED
    const void *low; /* its stack's lowest byte; NULL: not known yet */
    size_t size;     /* its stack's size */
    void *fiber;     /* ThreadSanitizer's name for it */
# endif
} mtask__context;

/* A coroutine. It lies at the top of its stack. `back` is where its resumer goes on, while it runs;
   coroutines that transfer to each other pass that on. */
struct mtask_coro {
    mtask__context context;
    void *value; /* what the last switch, either way, handed over */
    struct mtask_coro *resumer;
    mtask_status result;    /* what the resumer is told */
    mtask_coro_state state; /* RUNNING also means: waits for one that it has resumed */
    mtask__context back;
    bool closing;
    mtask_fn fn;
    void *arg;
    const char *name;
    const char *site;
    struct mtask__stack *stack;
    mtask_outcome *failure; /* how it failed, in its dead stack */
};

/* The coroutine that runs on this thread. Initial-exec: so its address is never computed, and
   cannot be remembered across a switch. */
# define mtask__coro_here MTASK__VERSIONED(mtask__coro_here)
# ifdef MTASK_NO_THREADS
#  define MTASK__CORO_TLS
# else
#  define MTASK__CORO_TLS __thread __attribute__((tls_model("initial-exec")))
# endif
# if MTASK__CORO_INLINE || defined(MTASK_NO_THREADS)
MTASK__ONE_HERE MTASK__CORO_TLS mtask_coro *mtask__coro_here;
MTASK__INLINE mtask_coro *mtask__coro_get(void) {
    return mtask__coro_here;
}
MTASK__INLINE void mtask__coro_set(mtask_coro *coro) {
    mtask__coro_here = coro;
}
# else
MTASK_API mtask_coro *mtask__coro_get(void);
MTASK_API void mtask__coro_set(mtask_coro *coro);
# endif

/* Leaves `from` and goes on in `to`, which receives `note`; returns, when somebody switches to
   `from`, what that brings. */
# if !MTASK__CORO_INLINE
MTASK_API void *mtask__context_switch(mtask__context *from, mtask__context *to, void *note);
# else
#  define mtask__context_switch mtask__context_swap
# endif
# if MTASK__CORO_X86_64
#  if defined(__CET__) && (__CET__ & 1)
#   define MTASK__CORO_LANDING "endbr64\n\t"
#  else
#   define MTASK__CORO_LANDING
#  endif
/* Modes of floating point. Reading MXCSR stalls the CPU for 4 ns and what surrounds it for more,
   each time; reading the x87 control word hardly costs anything, and all of <fenv.h> changes both
   alike. So that word tells whether `to` had other modes; if so, they go to both. */
#  if defined(MTASK_CORO_NO_FPU)
#   define MTASK__CORO_FPU
#   define MTASK__CORO_FPU_RARE
#  elif MTASK_CORO_MXCSR
#   define MTASK__CORO_FPU                                                                         \
    "stmxcsr 32(%%rdi)\n\tfnstcw 36(%%rdi)\n\tldmxcsr 32(%%rsi)\n\tfldcw 36(%%rsi)\n\t"
#   define MTASK__CORO_FPU_RARE
#  else
#   define MTASK__CORO_FPU                                                                         \
    "fnstcw 36(%%rdi)\n\t"                                                                         \
    "movzwl 36(%%rdi), %%r8d\n\t"                                                                  \
    "cmpw 36(%%rsi), %%r8w\n\t"                                                                    \
    "jne 3f\n"                                                                                     \
    "2:\n\t"
/* What differs in the word, rounding (bits 10 and 11) and masks (0 to 5), changes in MXCSR too (13
   and 14, and 7 to 12). */
#   define MTASK__CORO_FPU_RARE                                                                    \
    "3:\n\t"                                                                                       \
    "movzwl 36(%%rsi), %%r9d\n\t"                                                                  \
    "xorl %%r8d, %%r9d\n\t"                                                                        \
    "movl %%r9d, %%r10d\n\t"                                                                       \
    "andl $0xc00, %%r9d\n\t"                                                                       \
    "shll $3, %%r9d\n\t"                                                                           \
    "andl $0x3f, %%r10d\n\t"                                                                       \
    "shll $7, %%r10d\n\t"                                                                          \
    "orl %%r10d, %%r9d\n\t"                                                                        \
    "stmxcsr 32(%%rdi)\n\t"                                                                        \
    "xorl %%r9d, 32(%%rdi)\n\t"                                                                    \
    "ldmxcsr 32(%%rdi)\n\t"                                                                        \
    "fldcw 36(%%rsi)\n\t"                                                                          \
    "jmp 2b\n"
#  endif
#  ifdef __APX_F__
#   define MTASK__CORO_APX                                                                         \
    , "r16", "r17", "r18", "r19", "r20", "r21", "r22", "r23", "r24", "r25", "r26", "r27", "r28",   \
        "r29", "r30", "r31"
#  else
#   define MTASK__CORO_APX
#  endif
#  if defined(__AVX512F__) || defined(__clang__)
#   define MTASK__CORO_AVX512                                                                      \
    , "xmm16", "xmm17", "xmm18", "xmm19", "xmm20", "xmm21", "xmm22", "xmm23", "xmm24", "xmm25",    \
        "xmm26", "xmm27", "xmm28", "xmm29", "xmm30", "xmm31", "k1", "k2", "k3", "k4", "k5", "k6",  \
        "k7" MTASK__CORO_APX
#  else
#   define MTASK__CORO_AVX512
#  endif
/* A jump, not a return: the CPU would predict that the wrong way each time. The compiler keeps what
   it needs in the stack, since nothing else survives; rbp and rbx it may not let go of. Nothing is
   pushed: below the stack pointer lies the red zone. */
MTASK__INLINE void *mtask__context_swap(mtask__context *from, mtask__context *to, void *note) {
    __asm__ volatile(
        MTASK__CORO_FPU "leaq 1f(%%rip), %%r8\n\t"
                        "movq %%r8, (%%rdi)\n\t"
                        "movq %%rsp, 8(%%rdi)\n\t"
                        "movq %%rbp, 16(%%rdi)\n\t"
                        "movq %%rbx, 24(%%rdi)\n\t"
                        "movq 8(%%rsi), %%rsp\n\t"
                        "movq 16(%%rsi), %%rbp\n\t"
                        "movq 24(%%rsi), %%rbx\n\t"
                        "jmpq *(%%rsi)\n" MTASK__CORO_FPU_RARE "1:\n\t" MTASK__CORO_LANDING
        : "+D"(from), "+S"(to), "+a"(note)
        :
        : "rcx", "rdx", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "xmm0", "xmm1",
          "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12",
          "xmm13", "xmm14", "xmm15", "st", "st(1)", "st(2)", "st(3)", "st(4)", "st(5)", "st(6)",
          "st(7)", "memory", "cc" MTASK__CORO_AVX512);
    return note;
}
# endif

/* Why a coroutine is not resumed; *out becomes NULL. */
MTASK_API mtask_status mtask__coro_refuse(const mtask_coro *coro, void **out);

/* Whether it has left its stack's bounds. */
# if MTASK_CORO_CHECK
MTASK_API bool mtask__coro_overflowed(const mtask_coro *coro);
# else
#  define mtask__coro_overflowed(coro) ((void)(coro), false)
# endif

/* See above. */
MTASK__INLINE mtask_status mtask_coro_resume(mtask_coro *coro, void *in, void **out) {
    mtask_coro *here = mtask__coro_get();
    mtask_coro *from;
    if (MTASK__UNLIKELY(coro->state > MTASK_CORO_SUSPENDED))
        return mtask__coro_refuse(coro, out);
    if (MTASK__UNLIKELY(coro->resumer != here))
        coro->resumer = here; /* mostly it is, and a store would be waited for */
    coro->value = in;
    coro->state = MTASK_CORO_RUNNING;
    mtask__coro_set(coro);
    from = (mtask_coro *)mtask__context_switch(&coro->back, &coro->context, NULL);
    if (out != NULL)
        *out = from->value;
    return mtask__coro_overflowed(from) ? MTASK_OVERFLOW : from->result;
}

/* See above. */
MTASK__INLINE mtask_status mtask_coro_yield(void *out, void **in) {
    mtask_coro *self = mtask__coro_get();
    if (MTASK__UNLIKELY(self == NULL || self->closing)) {
        if (in != NULL)
            *in = NULL;
        return self == NULL ? MTASK_INVALID : MTASK_CANCELED;
    }
    self->value = out;
    self->result = MTASK_OK;
    self->state = MTASK_CORO_SUSPENDED;
    mtask__coro_set(self->resumer);
    (void)mtask__context_switch(&self->context, &self->back, self);
    if (in != NULL)
        *in = self->value;
    return self->closing ? MTASK_CANCELED : MTASK_OK;
}

/* See above. */
MTASK__INLINE bool mtask_coro_next(mtask_coro *coro, void **item) {
    return mtask_coro_resume(coro, NULL, item) == MTASK_OK;
}

# if MTASK_CORO_CENSUS
#  define MTASK__SITE_(line) __FILE__ ":" #  line
#  define MTASK__SITE(line)  MTASK__SITE_(line)
#  define mtask_coro_create(coro, fn, arg)                                                         \
   mtask__coro_create_at((coro), (fn), (arg), MTASK__SITE(__LINE__))
MTASK_API mtask_status mtask__coro_create_at(mtask_coro **coro, mtask_fn fn, void *arg,
                                             const char *site);
#  ifndef MTASK_CORO_NO_LOOP
#   define mtask_go(fn, arg, future) mtask__go_at((fn), (arg), (future), MTASK__SITE(__LINE__))
MTASK_API mtask_status mtask__go_at(mtask_fn fn, void *arg, mtask_future **future,
                                    const char *site);
#  endif
# endif

# ifdef __cplusplus
} /* extern "C" */
# endif

#endif /* MTASK_CORO_H */

/* ================================ implementation ================================ */

#if (defined(MTASK_IMPLEMENTATION) || defined(MTASK_CORO_IMPLEMENTATION)) &&                       \
    !defined(MTASK_CORO_IMPLEMENTED)
# define MTASK_CORO_IMPLEMENTED

# include <errno.h>
# include <limits.h>
# include <stdio.h>
# include <stdlib.h>
# include <string.h>

# ifdef __cplusplus
extern "C" {
# endif

/* ---- >>coro-contract: what a platform supplies ---- */

# ifndef MTASK_STATIC
const char MTASK__CORO_BUILD = 1; /* what every file that includes mtask_coro.h refers to */
# endif

/* Where a new context begins; it must not return. */
typedef void mtask__entry_fn(mtask__context *from, mtask__context *to, void *note);

/* Prepares a context whose first switch enters entry(from, to, note) on the stack that ends at
   `top`, with the calling thread's modes of floating point. */
static void mtask__context_prepare(mtask__context *context, void *top, mtask__entry_fn *entry);

/* Whether switches are possible: MTASK_OK, or MTASK_UNSUPPORTED. */
static mtask_status mtask__context_check(void);

/* mtask__context_switch, without a word to sanitizers. */
# if MTASK__CORO_NATIVE
#  define mtask__context_jump MTASK__VERSIONED(mtask__context_jump)
extern __attribute__((visibility("hidden"))) void *
mtask__context_jump(mtask__context *from, mtask__context *to, void *note);
# elif !MTASK__CORO_INLINE
MTASK_API void *mtask__context_jump(mtask__context *from, mtask__context *to, void *note);
# endif

/* Bytes of a page, and of the guard below each stack. */
static size_t mtask__os_guard_size(void);

/* Address space for stacks; it takes memory when it is used. NULL: there is none. And back. */
static char *mtask__os_stacks_map(size_t size);
static void mtask__os_stacks_unmap(char *memory, size_t size);

/* Makes the system end the program when these bytes are touched; false: it cannot. */
static bool mtask__os_stack_guard(char *low, size_t size);

/* Tells Valgrind of a stack, and that it is gone. */
static unsigned mtask__os_stack_watch(char *low, char *top);
static void mtask__os_stack_unwatch(unsigned watch);

/* Tells Valgrind that all of a stack may be used anew. */
static void mtask__os_stack_renew(char *low, size_t size);

/* ---- >>coro-state ---- */

/* A stack. This block lies at its top, and stays there while the stack is free. */
typedef struct mtask__stack {
    struct mtask__stack *next; /* in a list of free ones */
    struct mtask__slab *slab;  /* NULL: the caller's memory */
    char *low;                 /* the lowest byte that may be used */
    size_t size;               /* bytes from there up to this block */
    unsigned watch;            /* Valgrind's number for it */
    unsigned colour;           /* bytes to leave free below this block */
} mtask__stack;

# define MTASK__STACK_CLASSES 40 /* a stack of class n takes 1 << n bytes, its guard included */

/* What a thread has of its own. */
typedef struct mtask__coro_thread {
    mtask__stack *cache;     /* free stacks of the default size, last freed first */
    unsigned cached;         /* how many */
    bool flushes;            /* they are given back when the thread ends */
    mtask_coro *coro;        /* what runs, where mtask__coro_here does not say it */
    mtask__context *left;    /* who switched last */
    struct mtask_loop *loop; /* which it runs */
    bool orphaned;           /* that of the parent of a fork; it has none */
} mtask__coro_thread;

/* What the process has of coroutines. */
typedef struct mtask__coros_state {
    mtask_mutex lock;                                /* guards what follows */
    mtask_word watched;                              /* 1: forks have been seen to */
    bool ready;                                      /* forks have been seen to, and `threads` */
    mtask_word nonce;                                /* of this process */
    mtask_local threads;                             /* has a thread's cache flushed at its end */
    struct mtask__slab *slabs[MTASK__STACK_CLASSES]; /* those that have something to give */
    struct mtask__slab *full;                        /* those that have not */
    size_t empty;                                    /* slabs of which nothing is in use */
    mtask_coro_stack_info info;                      /* `free` counts those in slabs */
    struct mtask__census *census;
} mtask__coros_state;

# define mtask__coros    MTASK__VERSIONED(mtask__coros)
# define mtask__coro_own MTASK__VERSIONED(mtask__coro_own)
MTASK__ONE mtask__coros_state mtask__coros;
MTASK__ONE MTASK__THREAD_LOCAL mtask__coro_thread mtask__coro_own;
MTASK__MERGED(mtask__coros)
MTASK__MERGED(mtask__coro_own)
# if (MTASK__CORO_INLINE || defined(MTASK_NO_THREADS)) && !defined(MTASK_STATIC)
MTASK__ONE MTASK__CORO_TLS mtask_coro *mtask__coro_here;
MTASK__MERGED(mtask__coro_here)
# endif

/* What the calling thread has of its own. Not inlined: the address of a thread-local must not be
   remembered across a switch. */
static __attribute__((noinline)) mtask__coro_thread *mtask__coro_me(void) {
    return &mtask__coro_own;
}

# if !MTASK__CORO_INLINE && !defined(MTASK_NO_THREADS)
MTASK_API __attribute__((noinline)) mtask_coro *mtask__coro_get(void) {
    return mtask__coro_own.coro;
}

MTASK_API __attribute__((noinline)) void mtask__coro_set(mtask_coro *coro) {
    mtask__coro_own.coro = coro;
}
# endif

static void mtask__stacks_flush(void *own);

# ifndef MTASK_CORO_NO_LOOP
static void mtask__loop_orphan(mtask__coro_thread *own);
# endif

static void mtask__coros_fork_prepare(void) {
    mtask__lock(&mtask__coros.lock);
}

static void mtask__coros_fork_parent(void) {
    mtask__unlock(&mtask__coros.lock);
}

static void mtask__coros_fork_child(void) {
    mtask__store(&mtask__coros.watched, 1, RELAXED);
    mtask__store(&mtask__coros.lock.word, 0, RELAXED); /* there is one thread: pairs with none */
    mtask__store(&mtask__coros.nonce, mtask__nonce(), RELAXED);
# ifndef MTASK_CORO_NO_LOOP
    mtask__loop_orphan(mtask__coro_me());
# endif
}

/* Before the first use: sees to forks, and to the ends of threads. If it cannot see to these,
   stacks are not kept by threads. */
static void mtask__coros_init(void) {
    mtask__at_fork(&mtask__coros.watched, mtask__coros_fork_prepare, mtask__coros_fork_parent,
                   mtask__coros_fork_child);
    mtask__lock(&mtask__coros.lock);
    if (!mtask__coros.ready) {
        mtask__coros.ready = true;
        mtask__coros.nonce = mtask__nonce();
        (void)mtask_local_init(&mtask__coros.threads, mtask__stacks_flush);
    }
    mtask__unlock(&mtask__coros.lock);
}

/* ---- >>stack-pool: stacks in slabs, and some kept by each thread ---- */

# define MTASK__SLAB_SIZE   ((size_t)16 << 20) /* bytes of a slab, unless one stack needs more */
# define MTASK__SLABS_EMPTY 16  /* most slabs that are kept while nothing uses them */
# define MTASK__STACK_CACHE 256 /* most free stacks that a thread keeps */
# define MTASK__STACK_ALIGN 64

/* Stacks of one class, side by side. */
typedef struct mtask__slab {
    struct mtask__slab *next; /* in one of the lists of mtask__coros */
    struct mtask__slab *prev;
    bool full;     /* which one */
    unsigned kind; /* the class: stacks of 1 << kind bytes */
    unsigned count;
    unsigned carved; /* how many were ever used */
    unsigned used;   /* how many are in use, or kept by a thread */
    mtask__stack *free;
    char *memory;
} mtask__slab;

/* The class of stacks that hold `size` bytes beside the guard; 0: too large. */
static unsigned mtask__stack_class(size_t size) {
    size_t guard = mtask__os_guard_size();
    unsigned kind = 14;
    while (kind < MTASK__STACK_CLASSES && kind < 8 * sizeof size - 1 &&
           ((size_t)1 << kind < size || (size_t)1 << kind < 4 * guard))
        kind++;
    return kind < MTASK__STACK_CLASSES && kind < 8 * sizeof size - 1 ? kind : 0;
}

static mtask__slab **mtask__slab_list(const mtask__slab *slab) {
    return slab->full ? &mtask__coros.full : &mtask__coros.slabs[slab->kind];
}

static void mtask__slab_link(mtask__slab *slab, bool full) {
    mtask__slab **list;
    slab->full = full;
    list = mtask__slab_list(slab);
    slab->prev = NULL;
    slab->next = *list;
    if (*list != NULL)
        (*list)->prev = slab;
    *list = slab;
}

static void mtask__slab_unlink(mtask__slab *slab) {
    if (slab->prev != NULL)
        slab->prev->next = slab->next;
    else
        *mtask__slab_list(slab) = slab->next;
    if (slab->next != NULL)
        slab->next->prev = slab->prev;
}

static void mtask__slab_move(mtask__slab *slab, bool full) {
    mtask__slab_unlink(slab);
    mtask__slab_link(slab, full);
}

/* A new slab of a class; smaller where there is not enough address space. Under the lock. */
static mtask__slab *mtask__slab_create(unsigned kind) {
    size_t span = (size_t)1 << kind;
    size_t size = span < MTASK__SLAB_SIZE ? MTASK__SLAB_SIZE : span;
    mtask__slab *slab = (mtask__slab *)MTASK_MALLOC(sizeof *slab);
    if (slab == NULL)
        return NULL;
    memset(slab, 0, sizeof *slab);
    for (; slab->memory == NULL && size >= span; size /= 2) {
        slab->memory = mtask__os_stacks_map(size);
        slab->count = (unsigned)(size / span);
    }
    if (slab->memory == NULL) {
        MTASK_FREE(slab);
        return NULL;
    }
    slab->kind = kind;
    mtask__coros.info.reserved += slab->count * span;
    mtask__coros.empty++;
    mtask__slab_link(slab, false);
    return slab;
}

/* Under the lock, of a slab of which nothing is in use. */
static void mtask__slab_destroy(mtask__slab *slab) {
    size_t span = (size_t)1 << slab->kind;
    for (mtask__stack *stack = slab->free; stack != NULL; stack = stack->next) {
        mtask__os_stack_unwatch(stack->watch);
        mtask__coros.info.free--;
    }
    mtask__os_stacks_unmap(slab->memory, slab->count * span);
    mtask__coros.info.reserved -= slab->count * span;
    mtask__coros.empty--;
    mtask__slab_unlink(slab);
    MTASK_FREE(slab);
}

/* Makes a stack of the memory from `low` to `top`, of which the lowest `guard` bytes are not to be
   used. */
static mtask__stack *mtask__stack_make(char *low, char *top, size_t guard) {
    char *end =
        (char *)((uintptr_t)(top - sizeof(mtask__stack)) / MTASK__STACK_ALIGN * MTASK__STACK_ALIGN);
    mtask__stack *stack = (mtask__stack *)(void *)end;
    memset(stack, 0, sizeof *stack);
    stack->low = (char *)(((uintptr_t)low + guard + 15) / 16 * 16);
    stack->size = (size_t)(end - stack->low);
    stack->watch = mtask__os_stack_watch(stack->low, top);
    return stack;
}

/* One that the slab has not handed out before. Tops of stacks lie at addresses whose lower bits are
   equal: so that they do not all fall into the same lines of the CPU's caches, each begins at
   another place in its page. */
static mtask__stack *mtask__slab_carve(mtask__slab *slab) {
    size_t span = (size_t)1 << slab->kind;
    size_t guard = mtask__os_guard_size();
    char *low = slab->memory + slab->carved * span;
    mtask__stack *stack;
    if (!mtask__os_stack_guard(low, guard)) {
        mtask__coros.info.unguarded++;
        guard = 0;
    }
    stack = mtask__stack_make(low, low + span, guard);
    stack->slab = slab;
    stack->colour = slab->carved % 16 * 128;
    slab->carved++;
    return stack;
}

/* A stack of a class; NULL: no memory. Under the lock. */
static mtask__stack *mtask__slabs_take(unsigned kind) {
    mtask__slab *slab = mtask__coros.slabs[kind];
    mtask__stack *stack;
    if (slab == NULL)
        slab = mtask__slab_create(kind);
    if (slab == NULL)
        return NULL;
    stack = slab->free;
    if (stack != NULL) {
        slab->free = stack->next;
        mtask__coros.info.free--;
    } else {
        stack = mtask__slab_carve(slab);
    }
    if (slab->used++ == 0)
        mtask__coros.empty--;
    if (slab->used == slab->count)
        mtask__slab_move(slab, true);
    mtask__coros.info.in_use++;
    return stack;
}

/* Gives one back. Under the lock. */
static void mtask__slabs_give(mtask__stack *stack) {
    mtask__slab *slab = stack->slab;
    stack->next = slab->free;
    slab->free = stack;
    mtask__coros.info.free++;
    mtask__coros.info.in_use--;
    if (slab->full)
        mtask__slab_move(slab, false);
    if (--slab->used > 0)
        return;
    if (++mtask__coros.empty > MTASK__SLABS_EMPTY)
        mtask__slab_destroy(slab);
}

/* Gives back what the thread keeps, but for `keep` of them. */
static void mtask__stacks_trim(mtask__coro_thread *own, unsigned keep) {
    mtask__lock(&mtask__coros.lock);
    while (own->cached > keep) {
        mtask__stack *stack = own->cache;
        own->cache = stack->next;
        own->cached--;
        mtask__slabs_give(stack);
    }
    mtask__unlock(&mtask__coros.lock);
}

/* The thread ends. */
static void mtask__stacks_flush(void *own) {
    mtask__coro_thread *thread = (mtask__coro_thread *)own;
    mtask__stacks_trim(thread, 0);
    thread->flushes = false;
}

/* Whether the thread may keep a stack: it may, once it is sure to give it back. */
static bool mtask__stacks_may_keep(mtask__coro_thread *own) {
    if (!own->flushes)
        own->flushes = mtask_local_set(&mtask__coros.threads, own) == MTASK_OK;
    return own->flushes;
}

/* A stack with room for `size` bytes. MTASK_NOMEM, MTASK_INVALID, MTASK_UNSUPPORTED. */
static mtask_status mtask__stack_take(size_t size, mtask__stack **taken) {
    mtask__coro_thread *own = mtask__coro_me();
    unsigned kind;
    if (size == MTASK_CORO_STACK && own->cache != NULL) {
        *taken = own->cache;
        own->cache = own->cache->next;
        own->cached--;
        return MTASK_OK;
    }
    if (mtask__os_guard_size() == 0)
        return MTASK_UNSUPPORTED;
    kind = mtask__stack_class(size);
    if (kind == 0)
        return MTASK_NOMEM;
    mtask__coros_init();
    mtask__lock(&mtask__coros.lock);
    *taken = mtask__slabs_take(kind);
    mtask__unlock(&mtask__coros.lock);
    return *taken != NULL ? MTASK_OK : MTASK_NOMEM;
}

/* Whether the stack goes to the thread's own: then the one who stands on it may let go of it, since
   nobody but this thread takes it, later. */
static bool mtask__stack_keep(mtask__stack *stack) {
    mtask__coro_thread *own = mtask__coro_me();
    if (stack->slab == NULL || (size_t)1 << stack->slab->kind != MTASK_CORO_STACK ||
        own->cached == MTASK__STACK_CACHE || !mtask__stacks_may_keep(own))
        return false;
    stack->next = own->cache;
    own->cache = stack;
    own->cached++;
    return true;
}

/* Gives a stack back, on which nobody stands. */
static void mtask__stack_give(mtask__stack *stack) {
    if (stack->slab == NULL) {
        mtask__os_stack_unwatch(stack->watch);
        mtask__os_stack_renew(stack->low, stack->size);
        return;
    }
    if (mtask__stack_keep(stack))
        return;
    if ((size_t)1 << stack->slab->kind == MTASK_CORO_STACK)
        mtask__stacks_trim(mtask__coro_me(), MTASK__STACK_CACHE / 2);
    mtask__lock(&mtask__coros.lock);
    mtask__slabs_give(stack);
    mtask__unlock(&mtask__coros.lock);
}

/* Clears a block. memset would do; but some compilers make one instruction of it that takes longer
   to begin than all the rest. */
static void mtask__clear(void *block, size_t size) {
    char *at = (char *)block;
    for (; size >= 32; size -= 32, at += 32) {
        memset(at, 0, 32);
        __asm__ volatile("" ::: "memory");
    }
    for (; size > 0; size--)
        *at++ = 0;
}

/* Room for a block of `size` bytes at the top of a stack; what is below is for function calls. */
static void *mtask__stack_place(const mtask__stack *stack, size_t size) {
    uintptr_t at = (uintptr_t)stack - stack->colour - size;
    mtask__os_stack_renew(stack->low, stack->size);
    return (void *)(at / MTASK__STACK_ALIGN * MTASK__STACK_ALIGN);
}

MTASK_API mtask_coro_stack_info mtask_coro_stacks(void) {
    mtask_coro_stack_info info;
    size_t cached = mtask__coro_me()->cached;
    mtask__lock(&mtask__coros.lock);
    info = mtask__coros.info;
    mtask__unlock(&mtask__coros.lock);
    info.in_use -= cached;
    info.free += cached;
    return info;
}

/* ---- >>census: how much of their stacks coroutines use ---- */

# if MTASK_CORO_CENSUS

typedef struct mtask__census {
    struct mtask__census *next;
    mtask_coro_site site;
} mtask__census;

/* The bytes of a stack that were ever touched: from the lowest one that is not zero. */
static size_t mtask__stack_used(const mtask__stack *stack) {
    const char *at = stack->low + 16; /* above the canary */
    while (at < (const char *)stack && *at == 0)
        at++;
    return (size_t)((const char *)stack - at);
}

/* The entry of a place; NULL: no memory. Under the lock. */
static mtask__census *mtask__census_find(const char *site) {
    mtask__census *entry = mtask__coros.census;
    while (entry != NULL && strcmp(entry->site.site, site) != 0)
        entry = entry->next;
    if (entry != NULL)
        return entry;
    entry = (mtask__census *)MTASK_MALLOC(sizeof *entry);
    if (entry == NULL)
        return NULL;
    memset(entry, 0, sizeof *entry);
    entry->site.site = site;
    entry->site.stack_size = SIZE_MAX;
    entry->next = mtask__coros.census;
    mtask__coros.census = entry;
    return entry;
}

/* What has ended leaves the stack as if it had not been used, and its use in the census. */
static void mtask__census_note(mtask__stack *stack, const char *site, const char *name) {
    size_t used = mtask__stack_used(stack);
    mtask__census *entry;
    mtask__lock(&mtask__coros.lock);
    entry = mtask__census_find(site != NULL ? site : "?");
    if (entry != NULL) {
        entry->site.name = name;
        entry->site.count++;
        if (stack->size < entry->site.stack_size)
            entry->site.stack_size = stack->size;
        if (used > entry->site.stack_used)
            entry->site.stack_used = used;
    }
    mtask__unlock(&mtask__coros.lock);
    memset((char *)stack - used, 0, used);
}

MTASK_API mtask_status mtask_coro_census(mtask_coro_site *sites, size_t capacity, size_t *count) {
    size_t n = 0;
    mtask__lock(&mtask__coros.lock);
    for (const mtask__census *entry = mtask__coros.census; entry != NULL; entry = entry->next) {
        if (n < capacity)
            sites[n] = entry->site;
        n++;
    }
    mtask__unlock(&mtask__coros.lock);
    if (count != NULL)
        *count = n;
    return n <= capacity ? MTASK_OK : MTASK_OVERFLOW;
}

# else

static void mtask__census_note(const mtask__stack *stack, const char *site, const char *name) {
    (void)stack, (void)site, (void)name;
}

MTASK_API mtask_status mtask_coro_census(mtask_coro_site *sites, size_t capacity, size_t *count) {
    (void)sites, (void)capacity;
    if (count != NULL)
        *count = 0;
    return MTASK_UNSUPPORTED;
}

# endif

/* ---- >>context: what is told to sanitizers ---- */

/* A context that is about to be used for the first time, or was used for the last time. */
static void mtask__context_open(mtask__context *context, const mtask__stack *stack);
static void mtask__context_close(mtask__context *context, const mtask__stack *stack);

/* The first thing that a new context does. */
static void mtask__context_arrive(void);

/* As mtask__context_switch; `from` is never switched to again. */
static void mtask__context_leave(mtask__context *from, mtask__context *to, void *note);

# if MTASK__CORO_ASAN
void __sanitizer_start_switch_fiber(void **frames, const void *low, size_t size);
void __sanitizer_finish_switch_fiber(void *frames, const void **low, size_t *size);
void __asan_unpoison_memory_region(void const volatile *low, size_t size);
void __lsan_register_root_region(const void *low, size_t size);
void __lsan_unregister_root_region(const void *low, size_t size);
# endif
# if MTASK__TSAN
void *__tsan_get_current_fiber(void);
void *__tsan_create_fiber(unsigned flags);
void __tsan_destroy_fiber(void *fiber);
void __tsan_switch_to_fiber(void *fiber, unsigned flags);
# endif
# if MTASK__TSAN && defined(__clang__)
#  define MTASK__UNWATCHED __attribute__((no_sanitize("thread"), disable_sanitizer_instrumentation))
# elif MTASK__TSAN
#  define MTASK__UNWATCHED __attribute__((no_sanitize_thread))
# else
#  define MTASK__UNWATCHED
# endif

# if MTASK__CORO_WATCHED
static void mtask__context_open(mtask__context *context, const mtask__stack *stack) {
    context->low = stack->low;
    context->size = stack->size;
#  if MTASK__TSAN
    context->fiber = __tsan_create_fiber(0);
#  endif
}

static void mtask__context_close(mtask__context *context, const mtask__stack *stack) {
#  if MTASK__TSAN
    if (context->fiber != NULL)
        __tsan_destroy_fiber(context->fiber);
    context->fiber = NULL;
#  else
    __asan_unpoison_memory_region(stack->low, stack->size); /* frames that never returned */
    (void)context;
#  endif
    (void)stack;
}

/* Tells that `from` is left for `to`; *frames (NULL: for ever) is for mtask__watch_arrive. */
static MTASK__UNWATCHED inline __attribute__((always_inline)) void
mtask__watch_leave(mtask__context *from, mtask__context *to, void **frames) {
    mtask__coro_own.left = from;
#  if MTASK__CORO_ASAN
    __sanitizer_start_switch_fiber(frames, to->low, to->size);
#  else
    (void)frames;
    from->fiber = __tsan_get_current_fiber();
    __tsan_switch_to_fiber(to->fiber, 0);
#  endif
}

static MTASK__UNWATCHED inline __attribute__((always_inline)) void
mtask__watch_arrive(void *frames) {
#  if MTASK__CORO_ASAN
    mtask__context *left = mtask__coro_me()->left;
    const void *low;
    size_t size;
    __sanitizer_finish_switch_fiber(frames, &low, &size);
    left->low = low; /* known of coroutines, not of who resumes them */
    left->size = size;
#  else
    (void)frames;
#  endif
}

MTASK_API MTASK__UNWATCHED __attribute__((noinline)) void *
mtask__context_switch(mtask__context *from, mtask__context *to, void *note) {
    void *frames;
    mtask__watch_leave(from, to, &frames);
    note = mtask__context_jump(from, to, note);
    mtask__watch_arrive(frames);
    return note;
}

static MTASK__UNWATCHED __attribute__((noinline)) void mtask__context_arrive(void) {
    mtask__watch_arrive(NULL);
}

static MTASK__UNWATCHED __attribute__((noinline)) void
mtask__context_leave(mtask__context *from, mtask__context *to, void *note) {
    mtask__watch_leave(from, to, NULL);
    (void)mtask__context_jump(from, to, note);
}

# else

static void mtask__context_open(mtask__context *context, const mtask__stack *stack) {
    (void)context, (void)stack;
}

static void mtask__context_close(mtask__context *context, const mtask__stack *stack) {
    (void)context, (void)stack;
}

static void mtask__context_arrive(void) {
}

#  if !MTASK__CORO_INLINE
MTASK_API void *mtask__context_switch(mtask__context *from, mtask__context *to, void *note) {
    return mtask__context_jump(from, to, note);
}
#  endif

static void mtask__context_leave(mtask__context *from, mtask__context *to, void *note) {
    (void)mtask__context_switch(from, to, note);
}

# endif

/* Tells debuggers that nothing called the function in which it stands: a backtrace ends here. */
# if !defined(__GCC_HAVE_DWARF2_CFI_ASM)
#  define MTASK__OUTERMOST() (void)0
# elif defined(__x86_64__)
#  define MTASK__OUTERMOST() __asm__ volatile(".cfi_undefined rip")
# elif defined(__i386__)
#  define MTASK__OUTERMOST() __asm__ volatile(".cfi_undefined eip")
# elif defined(__aarch64__)
#  define MTASK__OUTERMOST() __asm__ volatile(".cfi_undefined x30")
# elif defined(__arm__)
#  define MTASK__OUTERMOST() __asm__ volatile(".cfi_undefined lr")
# elif defined(__riscv)
#  define MTASK__OUTERMOST() __asm__ volatile(".cfi_undefined ra")
# else
#  define MTASK__OUTERMOST() (void)0
# endif

/* ---- >>coro ---- */

# define MTASK__CORO_CANARY UINT64_C(0x57ac4c0de5afe001)

/* The lowest bytes of a stack are never used by a coroutine that behaves. */
static void mtask__stack_arm(const mtask__stack *stack) {
    uint64_t canary = MTASK__CORO_CANARY;
    if (MTASK_CORO_CHECK)
        memcpy(stack->low, &canary, sizeof canary);
}

# if MTASK_CORO_CHECK
MTASK_API bool mtask__coro_overflowed(const mtask_coro *coro) {
    uint64_t canary;
    memcpy(&canary, coro->stack->low, sizeof canary);
    return canary != MTASK__CORO_CANARY;
}
# endif

/* Where a coroutine that has failed leaves its outcome: in its stack, which it does not need any
   more, far from where it still stands. */
static mtask_outcome *mtask__coro_grave(const mtask_coro *coro) {
    return (mtask_outcome *)(void *)(coro->stack->low + 16);
}

static void mtask__coro_finish(mtask_coro *self, void *value) {
    bool failed = value == MTASK__FAILURE;
    self->state = MTASK_CORO_ENDED;
    self->value = failed ? NULL : value;
    self->result = failed ? MTASK_FAILED : MTASK_DONE;
    if (failed) {
        self->failure = mtask__coro_grave(self);
        (void)mtask_failure(self->failure);
    }
}

static void mtask__coro_entry(mtask__context *from, mtask__context *to, void *note) {
    mtask_coro *self = (mtask_coro *)(void *)to;
    MTASK__OUTERMOST();
    (void)from, (void)note;
    mtask__context_arrive();
    mtask__coro_finish(self, self->fn(self->arg));
    mtask__coro_set(self->resumer);
    mtask__context_leave(&self->context, &self->back, self);
    __builtin_trap(); /* nobody resumes what has ended */
}

/* The stack that a description asks for. */
static mtask_status mtask__coro_stack(const mtask_coro_desc *desc, mtask__stack **stack) {
    size_t size = desc->stack_size != 0 ? desc->stack_size : MTASK_CORO_STACK;
    mtask_status status = mtask__context_check();
    if (status != MTASK_OK)
        return status;
    if (desc->stack == NULL)
        return size < MTASK_CORO_STACK_MIN ? MTASK_INVALID : mtask__stack_take(size, stack);
    if (desc->stack_size < MTASK_CORO_STACK_MIN)
        return MTASK_INVALID;
    if (MTASK_CORO_CENSUS)
        memset(desc->stack, 0, desc->stack_size);
    *stack = mtask__stack_make((char *)desc->stack, (char *)desc->stack + desc->stack_size, 0);
    return MTASK_OK;
}

MTASK_API mtask_status mtask_coro_create_ex(mtask_coro **coro, const mtask_coro_desc *desc) {
    mtask__stack *stack;
    mtask_coro *made;
    mtask_status status = desc->fn == NULL ? MTASK_INVALID : mtask__coro_stack(desc, &stack);
    *coro = NULL;
    if (status != MTASK_OK)
        return status;
    made = (mtask_coro *)mtask__stack_place(stack, sizeof *made);
    mtask__clear(made, sizeof *made);
    made->fn = desc->fn;
    made->arg = desc->arg;
    made->name = desc->name != NULL ? desc->name : "";
    made->site = desc->site;
    made->stack = stack;
    mtask__stack_arm(stack);
    mtask__context_prepare(&made->context, made, mtask__coro_entry);
    mtask__context_open(&made->context, stack);
    *coro = made;
    return MTASK_OK;
}

static mtask_status mtask__coro_make(mtask_coro **coro, mtask_fn fn, void *arg, const char *site) {
    mtask_coro_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.fn = fn;
    desc.arg = arg;
    desc.site = site;
    return mtask_coro_create_ex(coro, &desc);
}

# if MTASK_CORO_CENSUS
MTASK_API mtask_status mtask__coro_create_at(mtask_coro **coro, mtask_fn fn, void *arg,
                                             const char *site) {
    return mtask__coro_make(coro, fn, arg, site);
}
# endif

MTASK_API mtask_status(mtask_coro_create)(mtask_coro **coro, mtask_fn fn, void *arg) {
    return mtask__coro_make(coro, fn, arg, NULL);
}

MTASK_API mtask_status mtask__coro_refuse(const mtask_coro *coro, void **out) {
    if (out != NULL)
        *out = NULL;
    return coro->state == MTASK_CORO_ENDED ? MTASK_CLOSED : MTASK_INVALID;
}

MTASK_API mtask_status mtask_coro_transfer(mtask_coro *coro, void *in, void **out) {
    mtask_coro *self = mtask__coro_get();
    if (self == NULL)
        return mtask_coro_resume(coro, in, out);
    if (coro->state > MTASK_CORO_SUSPENDED)
        return mtask__coro_refuse(coro, out);
    if (self->closing) {
        if (out != NULL)
            *out = NULL;
        return MTASK_CANCELED;
    }
    coro->resumer = self->resumer;
    coro->back = self->back;
    coro->value = in;
    coro->state = MTASK_CORO_RUNNING;
    self->state = MTASK_CORO_SUSPENDED;
    mtask__coro_set(coro);
    (void)mtask__context_switch(&self->context, &coro->context, NULL);
    if (out != NULL)
        *out = self->value;
    return self->closing ? MTASK_CANCELED : MTASK_OK;
}

MTASK_API mtask_status mtask_coro_close(mtask_coro *coro) {
    mtask_status status;
    if (coro->state == MTASK_CORO_ENDED)
        return MTASK_OK;
    if (coro->state == MTASK_CORO_RUNNING)
        return MTASK_INVALID;
    coro->closing = true;
    if (coro->state == MTASK_CORO_CREATED) {
        coro->state = MTASK_CORO_ENDED;
        coro->result = MTASK_CANCELED;
        coro->value = NULL;
        return MTASK_OK;
    }
    status = mtask_coro_resume(coro, NULL, NULL);
    if (status == MTASK_FAILED && coro->failure->status == MTASK_CANCELED)
        return MTASK_OK;
    return status == MTASK_DONE ? MTASK_OK : status;
}

MTASK_API mtask_status mtask_coro_destroy(mtask_coro *coro) {
    mtask__stack *stack;
    if (coro == NULL)
        return MTASK_OK;
    stack = coro->stack;
    if (coro->state == MTASK_CORO_SUSPENDED || coro->state == MTASK_CORO_RUNNING)
        return MTASK_INVALID;
    mtask__context_close(&coro->context, stack);
    if (MTASK_CORO_CENSUS && coro->failure != NULL)
        memset(coro->failure, 0, sizeof *coro->failure);
    if (MTASK_CORO_CENSUS)
        mtask__census_note(stack, coro->site, coro->name); /* wipes the coroutine out */
    mtask__stack_give(stack);
    return MTASK_OK;
}

MTASK_API mtask_coro_state mtask_coro_status(const mtask_coro *coro) {
    if (coro->state == MTASK_CORO_RUNNING && mtask__coro_get() != coro)
        return MTASK_CORO_WAITING;
    return coro->state;
}

MTASK_API mtask_status mtask_coro_outcome(const mtask_coro *coro, mtask_outcome *outcome) {
    if (coro->state != MTASK_CORO_ENDED)
        return MTASK_INVALID;
    if (outcome != NULL && coro->result == MTASK_FAILED) {
        *outcome = *coro->failure;
    } else if (outcome != NULL) {
        memset(outcome, 0, sizeof *outcome);
        outcome->status = coro->result == MTASK_DONE ? MTASK_OK : coro->result;
        outcome->value = coro->value;
    }
    return coro->result == MTASK_DONE ? MTASK_OK : coro->result;
}

MTASK_API mtask_coro *mtask_coro_current(void) {
    return mtask__coro_get();
}

MTASK_API const char *mtask_coro_name(const mtask_coro *coro) {
    return coro->name;
}

/* The stack on which the caller stands; NULL: the thread's own. */
static const mtask__stack *mtask__stack_here(void);

MTASK_API __attribute__((noinline)) size_t mtask_coro_stack_left(void) {
    const mtask__stack *stack = mtask__stack_here();
    const char *here = (const char *)__builtin_frame_address(0);
    return stack == NULL ? SIZE_MAX : here > stack->low ? (size_t)(here - stack->low) : 0;
}

# ifndef MTASK_CORO_NO_LOOP

/* ---- >>loop-contract: what a platform supplies to loops ---- */

/* How a loop sleeps: until a time, until somebody wakes it, or until a descriptor is ready. */
typedef struct mtask__poller {
    int fds[3];                   /* see the platforms; -1: none */
    struct pollfd *polled;        /* where poll is used: itself, and those that are wanted */
    size_t count;                 /* of these */
    struct mtask__watched *known; /* for each number, up to the highest */
    size_t capacity;              /* of both */
} mtask__poller;

/* MTASK_OK, MTASK_SYSTEM, MTASK_UNSUPPORTED: then nothing is open. */
static mtask_status mtask__os_poller_open(mtask__poller *poller);
static void mtask__os_poller_close(mtask__poller *poller);

/* Waits until `deadline` at most, and tells mtask__poller_tell of each descriptor that has become
   ready. MTASK_OK (also for no reason), MTASK_SYSTEM. */
static mtask_status mtask__os_poller_wait(mtask__poller *poller, int64_t deadline);

/* What has come to a descriptor. */
enum {
    MTASK__POLL_READ = 1,
    MTASK__POLL_WRITE = 2,
    MTASK__POLL_ODD = 4 /* an end, an error, or urgent data: a read may bring less than there is */
};

/* Has the poller tell, with `tag` (not 0), when `fd` becomes ready, and now if it is: of each new
   readiness once (epoll's edges), or, as long as it lasts, of those that are wanted (poll).
   `known`: only if it is watched already: else MTASK_NOT_FOUND. MTASK_OK; MTASK_UNSUPPORTED: it is
   always ready; MTASK_NOMEM, MTASK_SYSTEM. */
MTASK__INLINE mtask_status mtask__os_poller_watch(mtask__poller *poller, int fd, uint32_t tag,
                                                  bool known);

/* Which readiness of a watched descriptor is waited for now: 0: none. */
MTASK__INLINE void mtask__os_poller_want(mtask__poller *poller, int fd, unsigned events);

static void mtask__poller_tell(mtask__poller *poller, int fd, uint32_t tag, unsigned events);

/* Ends the wait of another thread, or the next one. Async-signal-safe; keeps errno. */
static void mtask__os_poller_wake(const mtask__poller *poller);

/* Waits for a millisecond, without the poller. */
static void mtask__os_nap(void);

/* Forgets the wakes so far. */
static void mtask__os_poller_clear(mtask__poller *poller);

/* A descriptor that is readable from a wake on up to the next wait; and, where the system can, once
   `deadline` has passed. MTASK_OK, MTASK_SYSTEM. */
static mtask_status mtask__os_poller_fd(mtask__poller *poller, int *fd);
static void mtask__os_poller_alarm(mtask__poller *poller, int64_t deadline);

/* Writes all of it. MTASK_OK, MTASK_SYSTEM. */
static mtask_status mtask__os_write(int fd, const char *text, size_t size);

/* Watches the word on which a parked task waits, and which other processes may wake, until the
   release. MTASK_OK, MTASK_UNSUPPORTED, MTASK_NOMEM, MTASK_SYSTEM. */
typedef struct mtask__vigil {
    struct mtask__vigil *next;
    struct mtask__vigil *prev;
    mtask__waiter *waiter;
    bool over; /* it was told */
} mtask__vigil;

static mtask_status mtask__os_vigil_begin(mtask__vigil *vigil, mtask__waiter *waiter);
static void mtask__os_vigil_end(mtask__vigil *vigil);

/* ---- >>loop-state ---- */

/* A task of a loop: a strand. It lies at the top of its stack. What is not said to be otherwise is
   used by the loop's thread alone. */
typedef struct mtask__strand {
    mtask__context context;
    struct mtask__strand *next; /* in the queue of those that are ready */
    mtask_loop *loop;
    mtask_coro *coro;       /* the coroutine in which it waits */
    mtask__waiter *waiter;  /* by which it waits; NULL: it does not */
    mtask_status ended;     /* how its wait ended, if nobody woke it */
    uint32_t timer;         /* its place in the timers, plus one; 0: none */
    int64_t deadline;       /* of its wait, as its caller said */
    int64_t since;          /* when it began to wait */
    bool begun;             /* its function has been called */
    bool canceled;          /* every wait ends at once, from now on */
    unsigned shields;       /* more than 0: waits do not end because of that */
    unsigned blocks;        /* mtask_nopark_begin */
    mtask_limit *limit;     /* the innermost one */
    int64_t until;          /* the earliest deadline of its limits that have not been reached */
    mtask__parker parker;   /* by which it is woken */
    mtask_loop_call call;   /* ... from other threads, or started */
    mtask_loop_call cancel; /* cancelled from other threads */
    mtask_fn fn;
    void *arg;
    const char *name;
    const char *site;
    mtask__stack *stack;
    struct mtask__result *result; /* its future; NULL: nobody asks */
    mtask__waiter *joiners;       /* strands of the same loop that wait for it */
    mtask_outcome *outcome;       /* what else receives its outcome, or NULL */
    mtask_taskgroup *group;
    struct mtask__strand *group_next;
    struct mtask__strand *group_prev;
    struct mtask__strand *loop_next; /* in the list of all tasks of the loop */
    struct mtask__strand *loop_prev;
    struct mtask__coro_value *values; /* of mtask_coro_local */
    mtask__task task;
} mtask__strand;

/* The future of a task. It may outlive the task, and the loop. */
typedef struct mtask__result {
    mtask_future future;
    mtask__strand *strand; /* NULL: it has ended; MTASK__CLAIMED: somebody is about to cancel it */
    mtask_loop *loop;      /* whose strand it is, or was */
    mtask_word nonce;      /* of the process to which it belongs */
    struct mtask__result *next; /* in the loop's list of spare ones */
} mtask__result;

#  define MTASK__CLAIMED ((mtask__strand *)(uintptr_t)1)

/* What will happen at a time; and which strand's timer is where. */
typedef struct mtask__alarm {
    int64_t deadline;
    uint32_t serial; /* equal deadlines: in the order of arrival */
    uint32_t slot;
} mtask__alarm;

typedef struct mtask__slot {
    mtask__strand *strand; /* NULL: free */
    uint32_t place;        /* in the heap; of a free one: the next free slot */
} mtask__slot;

/* A heap of four children to each, earliest first. */
typedef struct mtask__alarms {
    mtask__alarm *heap;
    mtask__slot *slots;
    uint32_t count;
    uint32_t capacity;
    uint32_t free; /* the first free slot, plus one */
    uint32_t used; /* slots that were ever used */
    uint32_t serial;
} mtask__alarms;

#  define MTASK__LOOP_BREAKS 100 /* after so many dead-locks in a row it just sleeps */
/* Most futures of tasks that are kept for the next ones; none where sanitizers watch their use. */
#  define MTASK__LOOP_SPARES (MTASK__CORO_WATCHED ? 0 : 64)
#  define MTASK__LOOP_BUDGET 61 /* switches between two looks at what comes from outside */
/* Time between two looks at descriptors while there is something else to do. */
#  define MTASK__LOOP_LOOK MTASK_US(20)

/* What mtask_io.h does for a loop; the rest of what it keeps follows. */
typedef struct mtask__loop_io {
    /* A descriptor is ready. */
    void (*tell)(mtask_loop *loop, int fd, uint32_t tag, unsigned events);
    /* The tasks have had a turn: sends what waits to be sent. */
    void (*flush)(mtask_loop *loop);
    void (*free)(mtask_loop *loop); /* at its end */
} mtask__loop_io;

/* A waiter for descriptors: `expected` is the number of the first. */
#  define MTASK__DESCRIPTOR (MTASK__UNLISTED | 1 << 15)

struct mtask_loop {
    mtask__context context; /* where it goes on when no task can */
    mtask__strand *first;   /* those that are ready */
    mtask__strand *last;
    mtask__strand *running;
    mtask__strand *main; /* whose end is the end of mtask_loop_run; NULL: it has ended, or none */
    mtask__strand *dead; /* has ended, and stood on its stack until now */
    unsigned budget;
    bool inside;     /* mtask_loop_step is at work: what is ready is found without a wake */
    bool ending;     /* no task may be started any more */
    bool deadlocked; /* found */
    unsigned breaks; /* how often, in a row */
    bool hosted;     /* somebody polls its descriptor */
    int64_t now;     /* the time of the last look */
    size_t count;    /* tasks that have not ended */
    mtask__result *spare;
    unsigned spares;
    size_t outside;     /* how many of them wait for descriptors or other processes */
    mtask__loop_io *io; /* NULL: it watches no descriptors */
    int64_t looked;     /* when it last looked at them */
    mtask__strand *oldest;
    mtask__strand *youngest;
    mtask__alarms alarms;
    mtask__task task; /* what the loop itself is: it must not wait */
    mtask__parker parker;
    mtask__poller poller;
    mtask_loop_desc desc;
    char name[MTASK_NAME_SIZE];
    char text[MTASK_TEXT_SIZE]; /* of a dead-lock */
    mtask_word nonce;           /* of the process to which it belongs */
    /* Other threads use these, on lines of their own. */
    mtask_loop_call *inbox __attribute__((aligned(64))); /* last come, first */
    mtask_word asleep; /* 1: whoever puts something into the inbox must wake it */
    mtask_word pins;   /* how many are about to post a wake */
};

static bool mtask__loop_is_here(const mtask_loop *loop) {
    return loop->nonce == mtask__load(&mtask__coros.nonce, RELAXED); /* changes while alone */
}

static mtask__strand *mtask__strand_here(void) {
    const mtask_loop *loop = mtask__coro_me()->loop;
    return loop != NULL ? loop->running : NULL;
}

static const mtask__stack *mtask__stack_here(void) {
    const mtask_coro *coro = mtask__coro_get();
    const mtask__strand *strand = mtask__strand_here();
    if (coro != NULL)
        return coro->stack;
    return strand != NULL ? strand->stack : NULL;
}

/* In the child of a fork: the calling task goes on, as its thread, without a loop. What it holds
   stays its own: its number is the same, but for the part that tells processes apart. */
static void mtask__loop_orphan(mtask__coro_thread *own) {
    mtask__strand *self = own->loop != NULL ? own->loop->running : NULL;
    if (own->loop != NULL)
        own->orphaned = true;
    own->loop = NULL;
    if (self == NULL)
        return;
    self->task.parker = NULL;
    self->task.id = (self->task.id & ~((uint64_t)0xffffff << 40)) | (uint64_t)mtask__nonce() << 40;
    (void)mtask__task_switch(&self->task);
}

/* ---- >>timers: the heap ---- */

static bool mtask__alarm_before(const mtask__alarm *a, const mtask__alarm *b) {
    return a->deadline < b->deadline ||
           (a->deadline == b->deadline && (int32_t)(a->serial - b->serial) < 0);
}

static void mtask__alarm_put(mtask__alarms *alarms, uint32_t place, mtask__alarm alarm) {
    alarms->heap[place] = alarm;
    alarms->slots[alarm.slot].place = place;
}

static void mtask__alarm_up(mtask__alarms *alarms, uint32_t place, mtask__alarm alarm) {
    while (place > 0) {
        uint32_t parent = (place - 1) / 4;
        if (!mtask__alarm_before(&alarm, &alarms->heap[parent]))
            break;
        mtask__alarm_put(alarms, place, alarms->heap[parent]);
        place = parent;
    }
    mtask__alarm_put(alarms, place, alarm);
}

static void mtask__alarm_down(mtask__alarms *alarms, uint32_t place, mtask__alarm alarm) {
    for (;;) {
        uint32_t child = 4 * place + 1;
        uint32_t end = alarms->count - child < 4 ? alarms->count : child + 4;
        uint32_t least = child;
        if (child >= alarms->count)
            break;
        for (uint32_t i = child + 1; i < end; i++)
            if (mtask__alarm_before(&alarms->heap[i], &alarms->heap[least]))
                least = i;
        if (!mtask__alarm_before(&alarms->heap[least], &alarm))
            break;
        mtask__alarm_put(alarms, place, alarms->heap[least]);
        place = least;
    }
    mtask__alarm_put(alarms, place, alarm);
}

/* Makes room for one more. */
static bool mtask__alarms_grow(mtask__alarms *alarms) {
    uint32_t capacity = alarms->capacity < 32 ? 32 : 2 * alarms->capacity;
    void *heap;
    void *slots;
    if (alarms->capacity > UINT32_MAX / 8)
        return false; /* so that four times a place does not overflow */
    heap = MTASK_REALLOC(alarms->heap, capacity * sizeof *alarms->heap);
    if (heap == NULL)
        return false;
    alarms->heap = (mtask__alarm *)heap;
    slots = MTASK_REALLOC(alarms->slots, capacity * sizeof *alarms->slots);
    if (slots == NULL)
        return false;
    alarms->slots = (mtask__slot *)slots;
    alarms->capacity = capacity;
    return true;
}

/* Has the strand's wait looked at, at `deadline`. False: no memory. */
static bool mtask__alarm_set(mtask__alarms *alarms, mtask__strand *strand, int64_t deadline) {
    mtask__alarm alarm;
    if (alarms->count == alarms->capacity && !mtask__alarms_grow(alarms))
        return false;
    if (alarms->free != 0) {
        alarm.slot = alarms->free - 1;
        alarms->free = alarms->slots[alarm.slot].place;
    } else {
        alarm.slot = alarms->used++;
    }
    alarm.deadline = deadline;
    alarm.serial = alarms->serial++;
    alarms->slots[alarm.slot].strand = strand;
    strand->timer = alarm.slot + 1;
    mtask__alarm_up(alarms, alarms->count++, alarm);
    return true;
}

static void mtask__alarm_clear(mtask__alarms *alarms, mtask__strand *strand) {
    uint32_t slot = strand->timer - 1;
    uint32_t place;
    mtask__alarm last;
    if (strand->timer == 0)
        return;
    strand->timer = 0;
    place = alarms->slots[slot].place;
    alarms->slots[slot].strand = NULL;
    alarms->slots[slot].place = alarms->free;
    alarms->free = slot + 1;
    last = alarms->heap[--alarms->count];
    if (place == alarms->count)
        return;
    if (place > 0 && mtask__alarm_before(&last, &alarms->heap[(place - 1) / 4]))
        mtask__alarm_up(alarms, place, last);
    else
        mtask__alarm_down(alarms, place, last);
}

static int64_t mtask__alarms_next(const mtask__alarms *alarms) {
    return alarms->count > 0 ? alarms->heap[0].deadline : MTASK_FOREVER;
}

/* ---- >>run: who runs next ---- */

static void mtask__loop_queue(mtask_loop *loop, mtask__strand *strand) {
    strand->next = NULL;
    if (loop->first != NULL)
        loop->last->next = strand;
    else
        loop->first = strand;
    loop->last = strand;
}

static mtask__strand *mtask__loop_pop(mtask_loop *loop) {
    mtask__strand *strand = loop->first;
    loop->first = strand->next;
    return strand;
}

/* Whether the caller is the loop's thread, in the midst of running it. */
static bool mtask__loop_is_inside(const mtask_loop *loop) {
    return mtask__coro_me()->loop == loop && loop->inside;
}

/* Puts a call into the inbox. Why the loop does not sleep on it: the loop says that it is asleep
   and then looks at the inbox; here the call is in the inbox before one looks whether it is asleep.
   Both sides do that with a full fence between, so at least one sees what the other did. After the
   call is in, nothing of it is touched: it may have been made already. */
static void mtask__loop_send(mtask_loop *loop, mtask_loop_call *call) {
    mtask_loop_call *head = mtask__load(&loop->inbox, RELAXED); /* a guess that the CAS confirms */
    do
        call->next = head;
    while (!mtask__cas(&loop->inbox, &head, call, SEQ_CST)); /* release: pairs with loop_drain */
    if (mtask__fence_load(&loop->asleep) != 0 && mtask__exchange(&loop->asleep, 0, SEQ_CST) != 0)
        mtask__os_poller_wake(&loop->poller);
}

/* Has a strand run when its turn comes; from any thread. */
static void mtask__strand_ready(mtask__strand *strand) {
    if (mtask__loop_is_inside(strand->loop))
        mtask__loop_queue(strand->loop, strand);
    else
        mtask__loop_send(strand->loop, &strand->call);
}

/* What the loop does with that, when it comes from another thread. */
static void mtask__strand_arrive(void *arg) {
    mtask__strand *strand = (mtask__strand *)arg;
    mtask__loop_queue(strand->loop, strand);
}

/* From now on this strand runs (NULL: the loop itself). */
static void mtask__loop_enter(mtask_loop *loop, mtask__strand *strand) {
    loop->running = strand;
    (void)mtask__task_switch(strand != NULL ? &strand->task : &loop->task);
    mtask__coro_set(strand != NULL ? strand->coro : NULL);
}

/* Whom the calling strand hands the thread to: the next that is ready, straight away, or the loop. */
static mtask__context *mtask__loop_next_context(mtask_loop *loop) {
    mtask__strand *next = NULL;
    if (loop->first != NULL && loop->budget > 0) {
        loop->budget--;
        next = mtask__loop_pop(loop);
    }
    mtask__loop_enter(loop, next);
    return next != NULL ? &next->context : &loop->context;
}

/* Lets others run until somebody makes the strand run. */
static void mtask__strand_switch(mtask__strand *self) {
    int saved = errno;
    mtask__context *next;
    self->coro = mtask__coro_get();
    next = mtask__loop_next_context(self->loop);
    if (next != &self->context)
        (void)mtask__context_switch(&self->context, next, NULL);
    errno = saved;
}

/* Lets `next` run at once, which nobody has queued; the caller goes on before all others. */
static void mtask__strand_switch_to(mtask__strand *self, mtask__strand *next) {
    mtask_loop *loop = self->loop;
    int saved = errno;
    self->coro = mtask__coro_get();
    self->next = loop->first;
    if (loop->first == NULL)
        loop->last = self;
    loop->first = self;
    mtask__loop_enter(loop, next);
    (void)mtask__context_switch(&self->context, &next->context, NULL);
    errno = saved;
}

static void mtask__strand_yield(mtask__strand *self) {
    mtask__loop_queue(self->loop, self);
    mtask__strand_switch(self);
}

/* Makes all calls that came from outside, in the order in which they came. */
static void mtask__loop_drain(mtask_loop *loop) {
    mtask_loop_call *call;
    mtask_loop_call *calls = NULL;
    mtask_loop_call *next;
    if (mtask__load(&loop->inbox, RELAXED) == NULL)
        return; /* relaxed: what it is about to miss has a wake coming */
    call = mtask__exchange(&loop->inbox, NULL, ACQUIRE); /* pairs with loop_send */
    for (; call != NULL; call = next) {
        next = call->next;
        call->next = calls;
        calls = call;
    }
    for (; calls != NULL; calls = next) {
        void (*fn)(void *arg) = calls->fn;
        void *arg = calls->arg;
        next = calls->next;
        (void)mtask__exchange(&calls->posted, 0,
                              ACQ_REL); /* sees all that was done before a post */
        fn(arg);                        /* that found it posted already */
    }
}

static void mtask__strand_bury(mtask__strand *strand);

/* Gives the stacks of those back that have ended. What was still on its way to them has come: they
   end only when nobody can send more, and the inbox is drained in between. */
static void mtask__loop_bury(mtask_loop *loop) {
    mtask__strand *strand = loop->dead;
    mtask__strand *next;
    if (strand == NULL)
        return;
    mtask__loop_drain(loop);
    loop->dead = NULL;
    for (; strand != NULL; strand = next) {
        next = strand->next;
        mtask__strand_bury(strand);
    }
}

/* ---- >>cancel ---- */

/* Sees which limits have been reached. */
static void mtask__strand_check_limits(mtask__strand *strand, int64_t now) {
    strand->until = MTASK_FOREVER;
    for (mtask_limit *limit = strand->limit; limit != NULL; limit = limit->outer) {
        if (!limit->canceled && limit->deadline <= now)
            limit->canceled = true;
        if (!limit->canceled && limit->deadline < strand->until &&
            limit->shields >= strand->shields)
            strand->until = limit->deadline;
    }
}

/* Whether its waits are to end. */
static bool mtask__strand_has_reason(const mtask__strand *strand) {
    bool reason = strand->canceled && strand->shields == 0;
    for (const mtask_limit *limit = strand->limit; limit != NULL; limit = limit->outer)
        reason = reason || (limit->canceled && limit->shields >= strand->shields);
    return reason;
}

/* The same, now, and says so to the limits that are the reason. */
static bool mtask__strand_is_canceled(mtask__strand *strand, int64_t now) {
    bool canceled = strand->canceled && strand->shields == 0;
    if (strand->limit == NULL)
        return canceled;
    if (strand->until <= now)
        mtask__strand_check_limits(strand, now);
    for (mtask_limit *limit = strand->limit; limit != NULL; limit = limit->outer) {
        if (limit->canceled && limit->shields >= strand->shields)
            canceled = limit->told = true;
    }
    return canceled;
}

/* Ends the wait of a parked strand, unless somebody has woken it already: then that is how it
   ends. */
static bool mtask__strand_interrupt(mtask__strand *strand, mtask_status status) {
    if (strand->waiter == NULL || strand->ended != MTASK_OK || !mtask__unpark(strand->waiter))
        return false;
    strand->ended = status;
    mtask__strand_ready(strand);
    return true;
}

/* Tells a strand that may be waiting that there is a reason not to. On the loop's thread. */
static void mtask__strand_nudge(mtask__strand *strand) {
    if (strand->waiter == NULL || (strand->waiter->flags & MTASK__NOCANCEL) != 0 ||
        !mtask__strand_has_reason(strand))
        return;
    if (mtask__strand_interrupt(strand, MTASK_CANCELED))
        (void)mtask__strand_is_canceled(strand, 0);
}

static void mtask__strand_cancel(mtask__strand *strand) {
    strand->canceled = true;
    mtask__strand_nudge(strand);
}

static void mtask__strand_cancel_call(void *arg) {
    mtask__strand_cancel((mtask__strand *)arg);
}

/* ---- >>wait-hook: how a strand waits ---- */

/* A strand's time is up: its wait's, or a limit's. */
static void mtask__strand_expire(mtask__strand *strand, int64_t now) {
    mtask_status status = strand->deadline <= now ? MTASK_TIMEOUT : MTASK_CANCELED;
    if (mtask__strand_interrupt(strand, status) && status == MTASK_CANCELED)
        (void)mtask__strand_is_canceled(strand, now);
}

/* The wait must end now, if nobody has ended it: lets the others run once, and says why. */
static mtask_status mtask__strand_leave(mtask__strand *self, mtask__waiter *waiter,
                                        mtask_status status) {
    if (mtask__unpark(waiter)) {
        mtask__strand_yield(self);
        return status;
    }
    mtask__strand_switch(self); /* somebody has it, and is about to post it */
    return MTASK_OK;
}

/* Waits, watched by the helper that hears what other processes do. */
static mtask_status mtask__strand_wait_outside(mtask__strand *self, mtask__waiter *waiter) {
    mtask__vigil vigil;
    mtask_status status = mtask__os_vigil_begin(&vigil, waiter);
    if (status != MTASK_OK)
        return mtask__strand_leave(self, waiter, status);
    self->loop->outside++;
    mtask__strand_switch(self);
    self->loop->outside--;
    mtask__os_vigil_end(&vigil);
    return self->ended;
}

static mtask_status mtask__strand_park(mtask__parker *parker, mtask__waiter *waiter,
                                       int64_t deadline) {
    mtask__strand *self = mtask__strand_here();
    mtask_loop *loop = self->loop;
    bool may_cancel = (waiter->flags & MTASK__NOCANCEL) == 0;
    int64_t now = self->limit != NULL ? mtask_now() : 0;
    int64_t end = deadline;
    mtask_status status;
    (void)parker;
    if (may_cancel && mtask__strand_is_canceled(self, now))
        return mtask__strand_leave(self, waiter, MTASK_CANCELED);
    if (may_cancel && self->limit != NULL && self->until < end)
        end = self->until;
    if (end <= 0)
        return mtask__strand_leave(self, waiter, MTASK_TIMEOUT);
    if (end != MTASK_FOREVER && !mtask__alarm_set(&loop->alarms, self, end))
        return mtask__strand_leave(self, waiter, MTASK_NOMEM);
    self->waiter = waiter;
    self->ended = MTASK_OK;
    self->deadline = deadline;
    self->since = loop->now;
    if ((waiter->flags & MTASK_SHARED) != 0) {
        status = mtask__strand_wait_outside(self, waiter);
    } else {
        mtask__strand_switch(self);
        status = self->ended;
    }
    self->waiter = NULL;
    mtask__alarm_clear(&loop->alarms, self);
    return status;
}

static mtask__strand *mtask__strand_of(mtask__parker *parker) {
    return (mtask__strand *)(void *)((char *)parker - offsetof(mtask__strand, parker));
}

/* A bucket is locked: the loop's own thread cannot end it meanwhile, so it needs no pin. */
static void mtask__strand_pin(mtask__parker *parker) {
    mtask_loop *loop = mtask__strand_of(parker)->loop;
    if (!mtask__loop_is_inside(loop))
        mtask__add(&loop->pins, 1, RELAXED); /* ordered by the lock of the bucket */
}

static void mtask__strand_post(mtask__parker *parker, mtask__waiter *waiter) {
    mtask__strand *strand = mtask__strand_of(parker);
    mtask_loop *loop = strand->loop;
    (void)waiter;
    if (mtask__loop_is_inside(loop)) {
        mtask__loop_queue(loop, strand);
    } else {
        mtask__loop_send(loop, &strand->call);
        mtask__sub(&loop->pins, 1, RELEASE); /* pairs with mtask__loop_free */
    }
}

/* ---- >>task-end: how a strand begins and ends ---- */

/* The loop keeps some for the next tasks. */
static void mtask__result_free(mtask_future *future) {
    mtask__result *result = (mtask__result *)(void *)future; /* which comes first in its block */
    mtask_loop *loop = mtask__coro_me()->loop;
    if (loop == NULL || loop != result->loop || loop->spares == MTASK__LOOP_SPARES) {
        MTASK_FREE(result);
        return;
    }
    result->next = loop->spare;
    loop->spare = result;
    loop->spares++;
}

static mtask__result *mtask__result_alloc(mtask_loop *loop) {
    mtask__result *result = loop == mtask__coro_me()->loop ? loop->spare : NULL;
    if (result == NULL)
        return (mtask__result *)MTASK_MALLOC(sizeof *result);
    loop->spare = result->next;
    loop->spares--;
    return result;
}

/* Asks the strand whose future this is to end, from any thread. While it is claimed it does not
   end. */
static mtask_status mtask__result_cancel_running(mtask__result *result) {
    mtask__strand *strand = mtask__load(&result->strand, RELAXED);
    unsigned turn = 0;
    for (;;) {
        if (strand == NULL)
            return MTASK_INVALID;
        if (strand == MTASK__CLAIMED)
            mtask__backoff(&turn);
        else if (mtask__cas(&result->strand, &strand, MTASK__CLAIMED, ACQUIRE))
            break; /* acquire: pairs with the release that published it */
        if (strand == MTASK__CLAIMED)
            strand = mtask__load(&result->strand, RELAXED);
    }
    if (mtask__loop_is_inside(strand->loop))
        mtask__strand_cancel(strand);
    else
        (void)mtask_loop_post(strand->loop, &strand->cancel);
    mtask__store(&result->strand, strand, RELEASE); /* pairs with mtask__result_part */
    return MTASK_OK;
}

static mtask_status mtask__result_cancel(mtask_future *future) {
    mtask__result *result = (mtask__result *)(void *)future;
    mtask_status status = mtask__future_cancel(future);
    if (status != MTASK_INVALID || result->nonce != mtask__nonce() || mtask_future_done(future))
        return status;
    return mtask__result_cancel_running(result);
}

static bool mtask__result_is_lost(const mtask_future *future) {
    return ((const mtask__result *)(const void *)future)->nonce != mtask__nonce();
}

static mtask__strand *mtask__strand_of(mtask__parker *parker);
static mtask_status mtask__strand_park(mtask__parker *parker, mtask__waiter *waiter,
                                       int64_t deadline);

/* A waiter that has come back by itself leaves the list of those who wait for `strand`. */
static void mtask__joiner_unlink(mtask__strand *strand, mtask__waiter *waiter) {
    if (waiter->next != NULL)
        waiter->next->prev = waiter->prev;
    if (waiter->prev != NULL)
        waiter->prev->next = waiter->next;
    else
        strand->joiners = waiter->next;
}

/* A task waits for another one of its loop: both are this thread's, so it waits in a list of that
   one, without a lock. Its waiter's `expected` becomes 1 when the other one has ended. */
static bool mtask__result_await(mtask_future *future, int64_t deadline, mtask_status *status) {
    mtask__result *result = (mtask__result *)(void *)future;
    mtask__strand *self = mtask__strand_here();
    mtask__strand *strand = mtask__load(&result->strand, RELAXED); /* of this thread, or refused */
    mtask__waiter waiter;
    if (self == NULL || deadline == 0 || self->blocks != 0 || result->loop != self->loop ||
        strand == MTASK__CLAIMED || strand == NULL || strand == self)
        return false;
    waiter.word = &future->word;
    waiter.expected = 0;
    waiter.flags = MTASK__UNLISTED;
    waiter.queued = true;
    waiter.parker = &self->parker;
    waiter.prev = NULL;
    waiter.next = strand->joiners;
    if (waiter.next != NULL)
        waiter.next->prev = &waiter;
    strand->joiners = &waiter;
    *status = mtask__strand_park(&self->parker, &waiter, deadline);
    if (waiter.expected == 0)
        mtask__joiner_unlink(strand, &waiter);
    else
        *status = MTASK_OK;
    return true;
}

/* Those who wait in that list go on. */
static void mtask__strand_wake_joiners(mtask__strand *self) {
    mtask__waiter *next;
    for (mtask__waiter *waiter = self->joiners; waiter != NULL; waiter = next) {
        next = waiter->next;
        waiter->expected = 1;
        if (mtask__unpark(waiter))
            mtask__loop_queue(self->loop, mtask__strand_of(waiter->parker));
    }
}

static const mtask__future_kind mtask__result_kind = {mtask__result_free,
                                                      mtask__result_cancel,
                                                      mtask__result_is_lost,
                                                      NULL,
                                                      true,
                                                      mtask__result_await,
                                                      NULL};

/* The strand ends: from now on nobody reaches it by its future. */
static void mtask__result_part(mtask__strand *self) {
    mtask__strand *expected = self;
    unsigned turn = 0;
    while (!mtask__cas(&self->result->strand, &expected, (mtask__strand *)NULL, ACQ_REL)) {
        expected = self; /* acquire: pairs with the store in result_cancel_running */
        mtask__pause();
        if (++turn % 64 == 0)
            mtask__yield();
    }
}

static void mtask__values_destroy(mtask__strand *self);
static void mtask__taskgroup_child_ended(mtask__strand *self, const mtask_outcome *outcome);

static bool mtask__strand_has_listener(const mtask__strand *self) {
    return self->result != NULL || self->outcome != NULL || self->group != NULL;
}

/* Calls the function, unless it was cancelled before; *outcome says how it ended. */
static void mtask__strand_call(mtask__strand *self, mtask_outcome *outcome) {
    void *value;
    bool canceled = self->canceled;
    if (self->result != NULL && !canceled)
        canceled = mtask__future_begin_own(&self->result->future) != MTASK_OK;
    outcome->status = MTASK_CANCELED;
    outcome->value = NULL;
    outcome->text[0] = '\0';
    if (canceled)
        return;
    self->begun = true;
    value = self->fn(self->arg);
    if (value != MTASK__FAILURE) {
        outcome->status = MTASK_OK;
        outcome->value = value;
    } else {
        (void)mtask_failure(outcome);
    }
}

/* Tells all who want to know. */
static void mtask__strand_tell(mtask__strand *self, const mtask_outcome *outcome) {
    if (self->outcome != NULL)
        *self->outcome = *outcome;
    if (self->result != NULL) {
        mtask__result_part(self);
        mtask__strand_wake_joiners(self); /* who run later, whatever callbacks do */
        if (!self->begun)
            (void)mtask__future_cancel(&self->result->future);
        else
            mtask__future_finish_own(&self->result->future, outcome->status, outcome->value,
                                     outcome->text);
        mtask_future_release(&self->result->future);
    }
    if (self->group != NULL)
        mtask__taskgroup_child_ended(self, outcome);
}

static void mtask__loop_unlist(mtask_loop *loop, mtask__strand *strand) {
    if (strand->loop_prev != NULL)
        strand->loop_prev->loop_next = strand->loop_next;
    else
        loop->oldest = strand->loop_next;
    if (strand->loop_next != NULL)
        strand->loop_next->loop_prev = strand->loop_prev;
    else
        loop->youngest = strand->loop_prev;
    loop->count--;
}

static void mtask__loop_list(mtask_loop *loop, mtask__strand *strand) {
    strand->loop_next = NULL;
    strand->loop_prev = loop->youngest;
    if (loop->youngest != NULL)
        loop->youngest->loop_next = strand;
    else
        loop->oldest = strand;
    loop->youngest = strand;
    loop->count++;
    strand->since = loop->now;
}

/* Gives back what a strand had that does not stand on its stack any more. */
static void mtask__strand_bury(mtask__strand *strand) {
    mtask__stack *stack = strand->stack;
    mtask__context_close(&strand->context, stack);
    if (MTASK_CORO_CENSUS)
        mtask__census_note(stack, strand->site, strand->name); /* wipes the strand out */
    mtask__stack_give(stack);
}

/* Whether nothing but the stack is left to give back, and the thread keeps that for itself. Then
   nobody has to do it once the strand has left. */
static bool mtask__strand_is_gone(const mtask__strand *self) {
    return !MTASK__CORO_WATCHED && !MTASK_CORO_CENSUS &&
           mtask__load(&self->cancel.posted, RELAXED) == 0 && /* ordered by result_part */
           mtask__stack_keep(self->stack);
}

/* Where the thread goes on, now that the strand has ended. */
static mtask__context *mtask__strand_exit(mtask__strand *self) {
    mtask_loop *loop = self->loop;
    if (!mtask__loop_is_here(loop)) { /* a child of fork, where the loop is none any more */
        mtask__coro_set(NULL);
        (void)mtask__task_switch(NULL);
        return &loop->context;
    }
    loop->breaks = 0;
    mtask__loop_unlist(loop, self);
    if (!mtask__strand_is_gone(self)) {
        self->next = loop->dead;
        loop->dead = self;
        loop->budget = 0;
    }
    if (loop->main == self)
        loop->main = NULL;
    if (loop->main == NULL || loop->count == 0)
        loop->budget = 0;
    return mtask__loop_next_context(loop);
}

static void mtask__strand_run(mtask__strand *self) {
    mtask_outcome outcome;
    mtask__strand_call(self, &outcome);
    if (!mtask__loop_is_here(self->loop))
        return;
    if (self->values != NULL)
        mtask__values_destroy(self);
    if (mtask__strand_has_listener(self))
        mtask__strand_tell(self, &outcome);
}

static void mtask__strand_entry(mtask__context *from, mtask__context *to, void *note) {
    mtask__strand *self = (mtask__strand *)(void *)to;
    MTASK__OUTERMOST();
    (void)from, (void)note;
    mtask__context_arrive();
    mtask__strand_run(self);
    mtask__context_leave(&self->context, mtask__strand_exit(self), NULL);
    __builtin_trap(); /* nobody runs what has ended */
}

/* ---- >>loop ---- */

static const mtask__parker mtask__strand_parker = {mtask__strand_park, mtask__strand_pin,
                                                   mtask__strand_post};

/* Room for a timer of each task, so that no wait fails for lack of memory. */
static mtask_status mtask__loop_reserve(mtask_loop *loop) {
    if (loop->count < loop->alarms.capacity || mtask__alarms_grow(&loop->alarms))
        return MTASK_OK;
    return MTASK_NOMEM;
}

/* What the loop does with a strand that another thread has started. */
static void mtask__strand_adopt(void *arg) {
    mtask__strand *strand = (mtask__strand *)arg;
    strand->call.fn = mtask__strand_arrive;
    strand->canceled = strand->loop->ending;
    (void)mtask__loop_reserve(strand->loop); /* if that fails, its timed waits may */
    mtask__loop_list(strand->loop, strand);
    mtask__loop_queue(strand->loop, strand);
}

/* The future of a strand: one reference for it, one for the caller. */
static mtask_status mtask__result_create(mtask__strand *strand) {
    mtask__result *result = mtask__result_alloc(strand->loop);
    if (result == NULL)
        return MTASK_NOMEM;
    mtask__future_init(&result->future, 2);
    result->future.kind = &mtask__result_kind;
    result->loop = strand->loop;
    result->nonce = strand->loop->nonce;
    mtask__store(&result->strand, strand, RELEASE); /* pairs with mtask__result_cancel_running */
    strand->result = result;
    return MTASK_OK;
}

static void mtask__strand_init(mtask__strand *strand, mtask__stack *stack,
                               const mtask_go_desc *desc, mtask_loop *loop) {
    mtask__clear(strand, offsetof(mtask__strand, task));
    strand->stack = stack;
    strand->loop = loop;
    strand->fn = desc->fn;
    strand->arg = desc->arg;
    strand->name = desc->name != NULL ? desc->name : "";
    strand->site = desc->site;
    strand->until = MTASK_FOREVER;
    strand->parker = mtask__strand_parker;
    strand->call.fn = mtask__strand_arrive;
    strand->call.arg = strand;
    strand->cancel.fn = mtask__strand_cancel_call;
    strand->cancel.arg = strand;
    strand->task.parker = &strand->parker;
    strand->task.host = NULL;
    mtask__task_renew(&strand->task);
    mtask__stack_arm(stack);
    mtask__context_prepare(&strand->context, strand, mtask__strand_entry);
    mtask__context_open(&strand->context, stack);
}

static mtask_status mtask__strand_create(mtask_loop *loop, const mtask_go_desc *desc,
                                         mtask__strand **made) {
    size_t size = desc->stack_size != 0 ? desc->stack_size : loop->desc.stack_size;
    mtask__stack *stack;
    mtask_status status = mtask__context_check();
    if (status == MTASK_OK)
        status = size < MTASK_CORO_STACK_MIN ? MTASK_INVALID : mtask__stack_take(size, &stack);
    if (status != MTASK_OK)
        return status;
    *made = (mtask__strand *)mtask__stack_place(stack, sizeof **made);
    mtask__strand_init(*made, stack, desc, loop);
    if (desc->future != NULL && (status = mtask__result_create(*made)) != MTASK_OK)
        mtask__strand_bury(*made);
    else if (desc->future != NULL)
        *desc->future = &(*made)->result->future;
    return status;
}

/* Has the loop run a new strand. */
static void mtask__strand_start(mtask__strand *strand, bool now) {
    mtask_loop *loop = strand->loop;
    if (mtask__coro_me()->loop != loop) {
        strand->call.fn = mtask__strand_adopt;
        mtask__loop_send(loop, &strand->call);
        return;
    }
    mtask__loop_list(loop, strand);
    if (now)
        mtask__strand_switch_to(loop->running, strand);
    else if (loop->inside)
        mtask__loop_queue(loop, strand);
    else
        mtask__loop_send(loop, &strand->call);
}

/* Which loop is meant, and whether it takes tasks. */
static mtask_status mtask__loop_find(mtask_loop **loop) {
    mtask__coro_thread *own = mtask__coro_me();
    if (*loop == NULL)
        *loop = own->loop;
    if (*loop == NULL)
        return own->orphaned ? MTASK_BROKEN : MTASK_INVALID;
    if (!mtask__loop_is_here(*loop))
        return MTASK_BROKEN;
    if (own->loop != *loop)
        return MTASK_OK;
    return (*loop)->ending ? MTASK_CLOSED : mtask__loop_reserve(*loop);
}

MTASK_API mtask_status mtask_go_ex(const mtask_go_desc *desc) {
    mtask_loop *loop = desc->loop;
    mtask__strand *strand;
    mtask_status status = desc->fn == NULL ? MTASK_INVALID : mtask__loop_find(&loop);
    if (desc->future != NULL)
        *desc->future = NULL;
    if (status == MTASK_OK && desc->now && (!mtask__loop_is_inside(loop) || loop->running == NULL))
        status = MTASK_INVALID;
    if (status == MTASK_OK)
        status = mtask__strand_create(loop, desc, &strand);
    if (status == MTASK_OK)
        mtask__strand_start(strand, desc->now);
    return status;
}

static mtask_status mtask__go(mtask_loop *loop, mtask_fn fn, void *arg, mtask_future **future,
                              const char *site) {
    mtask_go_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.loop = loop;
    desc.fn = fn;
    desc.arg = arg;
    desc.future = future;
    desc.site = site;
    return mtask_go_ex(&desc);
}

#  if MTASK_CORO_CENSUS
MTASK_API mtask_status mtask__go_at(mtask_fn fn, void *arg, mtask_future **future,
                                    const char *site) {
    return mtask__go(NULL, fn, arg, future, site);
}
#  endif

MTASK_API mtask_status(mtask_go)(mtask_fn fn, void *arg, mtask_future **future) {
    return mtask__go(NULL, fn, arg, future, NULL);
}

MTASK_API mtask_status mtask_loop_go(mtask_loop *loop, mtask_fn fn, void *arg,
                                     mtask_future **future) {
    return mtask__go(loop, fn, arg, future, NULL);
}

MTASK_API mtask_status mtask_yield(void) {
    mtask__strand *self = mtask__strand_here();
    if (self == NULL) {
        mtask__yield();
        return MTASK_OK;
    }
    mtask__strand_yield(self);
    if (!self->canceled && self->limit == NULL)
        return MTASK_OK;
    return mtask__strand_is_canceled(self, mtask_now()) ? MTASK_CANCELED : MTASK_OK;
}

MTASK_API mtask_status mtask_loop_post(mtask_loop *loop, mtask_loop_call *call) {
    if (call->fn == NULL)
        return MTASK_INVALID;
    if (!mtask__loop_is_here(loop))
        return MTASK_BROKEN;
    if (mtask__exchange(&call->posted, 1, ACQ_REL) == 0) /* pairs with mtask__loop_drain */
        mtask__loop_send(loop, call);
    return MTASK_OK;
}

MTASK_API mtask_loop *mtask_loop_current(void) {
    return mtask__coro_me()->loop;
}

/* ---- >>host ---- */

static void mtask__loop_name(mtask_loop *loop, const char *name) {
    static mtask_word loops; /* named so far */
    if (name != NULL)
        (void)snprintf(loop->name, sizeof loop->name, "%s", name);
    else
        (void)snprintf(loop->name, sizeof loop->name, "Loop-%u",
                       (unsigned)mtask__add(&loops, 1, RELAXED) + 1); /* only the count matters */
    loop->desc.name = loop->name;
}

/* Loops have lines of the cache of their own, for what other threads write. */
static mtask_loop *mtask__loop_alloc(void) {
    char *memory = (char *)MTASK_MALLOC(sizeof(mtask_loop) + sizeof(void *) + 63);
    uintptr_t at = ((uintptr_t)memory + sizeof(void *) + 63) / 64 * 64;
    if (memory == NULL)
        return NULL;
    memset((void *)at, 0, sizeof(mtask_loop));
    ((void **)at)[-1] = memory;
    return (mtask_loop *)at;
}

static void mtask__loop_dispose(mtask_loop *loop) {
    mtask__result *next;
    for (mtask__result *result = loop->spare; result != NULL; result = next) {
        next = result->next;
        MTASK_FREE(result);
    }
    MTASK_FREE(loop->alarms.heap);
    MTASK_FREE(loop->alarms.slots);
    MTASK_FREE(((void **)(void *)loop)[-1]);
}

MTASK_API mtask_status mtask_loop_create(mtask_loop **loop, const mtask_loop_desc *desc) {
    mtask__coro_thread *own = mtask__coro_me();
    mtask_status status;
    mtask_loop *made;
    *loop = NULL;
    if (own->loop != NULL)
        return MTASK_INVALID;
    mtask__coros_init();
    made = mtask__loop_alloc();
    if (made == NULL)
        return MTASK_NOMEM;
    status = mtask__os_poller_open(&made->poller);
    if (status != MTASK_OK) {
        mtask__loop_dispose(made);
        return status;
    }
    if (desc != NULL)
        made->desc = *desc;
    if (made->desc.stack_size == 0)
        made->desc.stack_size = MTASK_CORO_STACK;
    mtask__loop_name(made, made->desc.name);
    made->nonce = mtask__nonce();
    made->now = mtask_now();
    made->asleep = 1;
    mtask__task_init(&made->task, &made->parker);
    mtask__wake_known();
    own->loop = made;
    own->orphaned = false;
    *loop = made;
    return MTASK_OK;
}

/* Makes those ready whose time has come. */
static void mtask__loop_tick(mtask_loop *loop) {
    mtask__alarms *alarms = &loop->alarms;
    loop->now = mtask_now();
    while (alarms->count > 0 && alarms->heap[0].deadline <= loop->now) {
        mtask__strand *strand = alarms->slots[alarms->heap[0].slot].strand;
        mtask__alarm_clear(alarms, strand);
        mtask__strand_expire(strand, loop->now);
    }
}

/* Runs those that are ready, for a while. */
static void mtask__loop_round(mtask_loop *loop) {
    mtask__strand *next;
    if (loop->first == NULL)
        return;
    loop->budget = MTASK__LOOP_BUDGET;
    next = mtask__loop_pop(loop);
    mtask__loop_enter(loop, next);
    (void)mtask__context_switch(&loop->context, &next->context, NULL);
    if (mtask__loop_is_here(loop))
        mtask__loop_bury(loop);
}

/* Sleeps until something comes. See mtask__loop_send. */
static mtask_status mtask__loop_sleep(mtask_loop *loop, int64_t deadline) {
    mtask_status status = MTASK_OK;
    mtask__store(&loop->asleep, 1, SEQ_CST);
    mtask__fence();
    if (mtask__load(&loop->inbox, SEQ_CST) == NULL)
        status = mtask__os_poller_wait(&loop->poller, deadline);
    mtask__store(&loop->asleep, 0, RELAXED); /* who still sees 1 wakes it once in vain */
    if (status != MTASK_OK)
        mtask__os_nap(); /* and looks for itself what has come: slow, but nothing is lost */
    return status;
}

static void mtask__poller_tell(mtask__poller *poller, int fd, uint32_t tag, unsigned events) {
    mtask_loop *loop = (mtask_loop *)(void *)((char *)poller - offsetof(mtask_loop, poller));
    loop->io->tell(loop, fd, tag, events);
}

/* What was written goes out, and tasks that never wait do not keep those from running whose
   descriptors are ready. */
static void mtask__loop_look(mtask_loop *loop, int64_t deadline) {
    if (loop->io == NULL)
        return;
    loop->io->flush(loop);
    if (deadline != 0 && (loop->first == NULL || loop->now - loop->looked < MTASK__LOOP_LOOK))
        return;
    loop->looked = loop->now;
    (void)mtask__os_poller_wait(&loop->poller, 0); /* if it fails, the next sleep does, too */
}

static void mtask__loop_break(mtask_loop *loop);

/* Whether nothing will ever happen here again, though tasks are left. */
static bool mtask__loop_is_stuck(const mtask_loop *loop) {
    return loop->desc.no_external_wakers && loop->count > 0 && loop->outside == 0 &&
           loop->breaks < MTASK__LOOP_BREAKS && loop->alarms.count == 0 &&
           mtask__load(&loop->inbox, RELAXED) == NULL;
}

/* Waits for something to do, if there is nothing. MTASK_TIMEOUT: there still is nothing. */
static mtask_status mtask__loop_await(mtask_loop *loop, int64_t deadline) {
    int64_t next;
    mtask_status status;
    if (loop->first != NULL || deadline == 0)
        return loop->first != NULL ? MTASK_OK : MTASK_TIMEOUT;
    if (deadline == MTASK_FOREVER && mtask__loop_is_stuck(loop)) {
        mtask__loop_break(loop);
        return MTASK_OK;
    }
    next = mtask__alarms_next(&loop->alarms);
    status = mtask__loop_sleep(loop, next < deadline ? next : deadline);
    if (status != MTASK_OK && loop->hosted)
        return status;
    mtask__loop_drain(loop);
    mtask__loop_tick(loop);
    if (loop->first != NULL)
        return MTASK_OK;
    return deadline != MTASK_FOREVER && mtask_until(deadline) == 0 ? MTASK_TIMEOUT : MTASK_EMPTY;
}

/* One step, inside. MTASK_OK, MTASK_TIMEOUT, MTASK_SYSTEM. */
static mtask_status mtask__loop_turn(mtask_loop *loop, int64_t deadline) {
    mtask_status status;
    mtask__loop_drain(loop);
    mtask__loop_tick(loop);
    mtask__loop_look(loop, deadline);
    if (loop->count == 0 && loop->first == NULL)
        return MTASK_OK;
    do
        status = mtask__loop_await(loop, deadline);
    while (status == MTASK_EMPTY);
    if (status == MTASK_OK)
        mtask__loop_round(loop);
    return status;
}

/* The descriptor of a loop in a host's hands tells whether there is something to do. */
static void mtask__loop_show(mtask_loop *loop) {
    mtask__store(&loop->asleep, 1, SEQ_CST);
    mtask__fence();
    if (loop->first != NULL || mtask__load(&loop->inbox, SEQ_CST) != NULL)
        mtask__os_poller_wake(&loop->poller);
    if (loop->hosted)
        mtask__os_poller_alarm(&loop->poller, mtask__alarms_next(&loop->alarms));
}

/* Steps, as the loop: until `main` has ended, or (NULL) once. In the child of a fork: not here. */
static mtask_status mtask__loop_steps(mtask_loop *loop, int64_t deadline, bool once) {
    mtask__task *last = mtask__task_switch(&loop->task);
    mtask_coro *coro = mtask__coro_get();
    mtask_status status;
    mtask__coro_set(NULL);
    loop->inside = true;
    mtask__store(&loop->asleep, 0, RELAXED); /* as in mtask__loop_sleep */
    do
        status = mtask__loop_turn(loop, deadline);
    while (status == MTASK_OK && mtask__loop_is_here(loop) && !once && loop->main != NULL);
    mtask__coro_set(coro);
    if (!mtask__loop_is_here(loop))
        return MTASK_BROKEN;
    if (loop->io != NULL)
        loop->io->flush(loop); /* a host may take its time until the next step */
    loop->inside = false;
    (void)mtask__task_switch(last);
    return status;
}

/* Whether the calling thread may run it now. */
static mtask_status mtask__loop_may_step(const mtask_loop *loop) {
    if (!mtask__loop_is_here(loop))
        return MTASK_BROKEN;
    return mtask__coro_me()->loop != loop || loop->inside ? MTASK_INVALID : MTASK_OK;
}

MTASK_API mtask_status mtask_loop_step(mtask_loop *loop, int64_t timeout) {
    int64_t deadline;
    mtask_status status = mtask__loop_may_step(loop);
    if (status == MTASK_OK)
        status = mtask__deadline(timeout, &deadline);
    if (status != MTASK_OK)
        return status;
    mtask__os_poller_clear(&loop->poller);
    status = mtask__loop_steps(loop, deadline, true);
    if (status == MTASK_BROKEN)
        return status;
    mtask__loop_show(loop);
    if (loop->deadlocked) {
        loop->deadlocked = false;
        return MTASK_DEADLOCK;
    }
    return status == MTASK_OK && loop->count == 0 ? MTASK_DONE : status;
}

MTASK_API mtask_status mtask_loop_fd(mtask_loop *loop, int *fd) {
    mtask_status status = mtask__os_poller_fd(&loop->poller, fd);
    if (status == MTASK_OK) {
        loop->hosted = true;
        if (!loop->inside)
            mtask__loop_show(loop);
    }
    return status;
}

MTASK_API int64_t mtask_loop_next(const mtask_loop *loop) {
    if (loop->first != NULL || mtask__load(&loop->inbox, RELAXED) != NULL)
        return 0;
    return mtask__alarms_next(&loop->alarms);
}

MTASK_API size_t mtask_loop_pending(const mtask_loop *loop) {
    return loop->count;
}

MTASK_API void mtask_loop_cancel(mtask_loop *loop) {
    for (mtask__strand *strand = loop->oldest; strand != NULL; strand = strand->loop_next)
        mtask__strand_cancel(strand);
}

/* Frees the loop once nobody is about to wake one of its tasks, which have ended. */
static void mtask__loop_free(mtask_loop *loop) {
    unsigned turn = 0;
    while (mtask__load(&loop->pins, ACQUIRE) != 0) /* pairs with mtask__strand_post */
        mtask__backoff(&turn);
    if (loop->io != NULL)
        loop->io->free(loop);
    mtask__coro_me()->loop = NULL;
    mtask__os_poller_close(&loop->poller);
    mtask__loop_dispose(loop);
}

/* Cancels what is left, and runs until it has ended. MTASK_OK, MTASK_DEADLOCK, MTASK_SYSTEM,
   MTASK_BROKEN. */
static mtask_status mtask__loop_finish(mtask_loop *loop) {
    mtask_status status = MTASK_OK;
    loop->ending = true;
    loop->hosted = false; /* it goes on whatever happens */
    mtask_loop_cancel(loop);
    do {
        while (loop->count > 0 && status != MTASK_BROKEN)
            status = mtask__loop_steps(loop, MTASK_FOREVER, true);
        if (status != MTASK_BROKEN)
            status = mtask__loop_steps(loop, 0, true); /* what was on its way, tasks perhaps */
    } while (loop->count > 0 && status != MTASK_BROKEN);
    if (status == MTASK_BROKEN)
        return status;
    return loop->deadlocked ? MTASK_DEADLOCK : MTASK_OK;
}

MTASK_API mtask_status mtask_loop_destroy(mtask_loop *loop) {
    mtask_status status;
    if (loop == NULL)
        return MTASK_OK;
    status = mtask__loop_may_step(loop);
    if (status != MTASK_OK)
        return status;
    loop->deadlocked = false;
    status = mtask__loop_finish(loop);
    if (status != MTASK_BROKEN)
        mtask__loop_free(loop);
    return status;
}

/* What mtask_loop_run says of fn's outcome, or instead of it. */
static mtask_status mtask__loop_verdict(const mtask_loop *loop, mtask_status status,
                                        mtask_outcome *outcome) {
    if (status == MTASK_OK && !loop->deadlocked)
        return outcome->status == MTASK_OK ? MTASK_OK : MTASK_FAILED;
    if (loop->deadlocked)
        status = MTASK_DEADLOCK;
    outcome->status = status;
    outcome->value = NULL;
    memcpy(outcome->text, loop->deadlocked ? loop->text : "",
           loop->deadlocked ? MTASK_TEXT_SIZE : 1);
    return status;
}

/* Starts fn(arg) as the main task. */
static mtask_status mtask__loop_begin(mtask_loop *loop, mtask_fn fn, void *arg,
                                      mtask_outcome *outcome) {
    mtask_go_desc desc;
    mtask_status status;
    memset(&desc, 0, sizeof desc);
    desc.fn = fn;
    desc.arg = arg;
    desc.name = "main";
    status = mtask__strand_create(loop, &desc, &loop->main);
    if (status != MTASK_OK)
        return status;
    loop->main->outcome = outcome;
    mtask__loop_list(loop, loop->main);
    mtask__loop_queue(loop, loop->main);
    return MTASK_OK;
}

MTASK_API mtask_status mtask_loop_run_ex(mtask_fn fn, void *arg, mtask_outcome *outcome,
                                         const mtask_loop_desc *desc) {
    mtask_outcome own;
    mtask_loop *loop;
    mtask_status status = fn == NULL ? MTASK_INVALID : mtask_loop_create(&loop, desc);
    memset(&own, 0, sizeof own);
    if (status != MTASK_OK)
        return status;
    status = mtask__loop_begin(loop, fn, arg, &own);
    if (status != MTASK_OK) {
        mtask__loop_free(loop);
        return status;
    }
    status = mtask__loop_steps(loop, MTASK_FOREVER, false);
    if (status != MTASK_BROKEN)
        status = mtask__loop_finish(loop);
    if (status == MTASK_BROKEN)
        return status;
    status = mtask__loop_verdict(loop, status, &own);
    mtask__loop_free(loop);
    if (outcome != NULL)
        *outcome = own;
    return status;
}

MTASK_API mtask_status mtask_loop_run(mtask_fn fn, void *arg, mtask_outcome *outcome) {
    return mtask_loop_run_ex(fn, arg, outcome, NULL);
}

/* ---- >>cancel ---- */

MTASK_API bool mtask_canceled(void) {
    mtask__strand *self = mtask__strand_here();
    if (self == NULL)
        return false;
    if (self->limit != NULL)
        mtask__strand_check_limits(self, mtask_now());
    return mtask__strand_has_reason(self);
}

MTASK_API void mtask_shield_begin(void) {
    mtask__strand *self = mtask__strand_here();
    if (self == NULL)
        return;
    self->shields++;
    mtask__strand_check_limits(self, 0);
}

MTASK_API void mtask_shield_end(void) {
    mtask__strand *self = mtask__strand_here();
    if (self == NULL || self->shields == 0)
        return;
    self->shields--;
    mtask__strand_check_limits(self, 0);
}

MTASK_API void mtask_nopark_begin(void) {
    mtask__strand *self = mtask__strand_here();
    if (self != NULL && self->blocks++ == 0)
        self->task.parker = NULL;
}

MTASK_API void mtask_nopark_end(void) {
    mtask__strand *self = mtask__strand_here();
    if (self != NULL && self->blocks > 0 && --self->blocks == 0)
        self->task.parker = &self->parker;
}

static void mtask__limit_push(mtask__strand *self, mtask_limit *limit, int64_t deadline) {
    limit->outer = self->limit;
    limit->deadline = deadline;
    limit->canceled = limit->told = false;
    limit->shields = self->shields;
    limit->task = self;
    self->limit = limit;
    if (deadline < self->until)
        self->until = deadline;
}

static void mtask__limit_pop(mtask__strand *self) {
    self->limit = self->limit->outer;
    mtask__strand_check_limits(self, 0);
}

MTASK_API mtask_status mtask_limit_begin(mtask_limit *limit, int64_t timeout) {
    mtask__strand *self = mtask__strand_here();
    int64_t deadline = mtask_deadline(timeout);
    if (self == NULL || timeout < 0)
        return MTASK_INVALID;
    if (deadline < 0)
        return MTASK_SYSTEM;
    mtask__limit_push(self, limit, deadline);
    return MTASK_OK;
}

MTASK_API mtask_status mtask_limit_set(mtask_limit *limit, int64_t timeout) {
    mtask__strand *self = mtask__strand_here();
    int64_t deadline = mtask_deadline(timeout);
    if (self == NULL || timeout < 0 || limit->task != self)
        return MTASK_INVALID;
    mtask__strand_check_limits(self, mtask_now());
    if (limit->canceled)
        return MTASK_INVALID;
    if (deadline < 0)
        return MTASK_SYSTEM;
    limit->deadline = deadline;
    mtask__strand_check_limits(self, 0);
    return MTASK_OK;
}

MTASK_API mtask_status mtask_limit_end(mtask_limit *limit) {
    mtask__strand *self = mtask__strand_here();
    if (self == NULL || self->limit != limit)
        return MTASK_INVALID;
    mtask__limit_pop(self);
    limit->task = NULL;
    return limit->told ? MTASK_TIMEOUT : MTASK_OK;
}

MTASK_API mtask_status mtask_with_timeout(int64_t timeout, mtask_fn fn, void *arg,
                                          mtask_outcome *outcome) {
    mtask_limit limit;
    mtask_status status = fn == NULL ? MTASK_INVALID : mtask_limit_begin(&limit, timeout);
    mtask_status ended;
    if (status != MTASK_OK)
        return status;
    status = mtask__run(fn, arg, outcome);
    ended = mtask_limit_end(&limit);
    return ended != MTASK_OK ? ended : status;
}

/* ---- >>taskgroup ---- */

MTASK_API mtask_status mtask_taskgroup_begin(mtask_taskgroup *group) {
    mtask__strand *self = mtask__strand_here();
    if (self == NULL)
        return MTASK_INVALID;
    memset(group, 0, sizeof *group);
    mtask__limit_push(self, &group->limit, MTASK_FOREVER);
    return MTASK_OK;
}

MTASK_API void mtask_taskgroup_cancel(mtask_taskgroup *group) {
    mtask__strand *owner = group->limit.task;
    mtask__strand *next;
    group->canceled = 1;
    group->limit.canceled = true;
    for (mtask__strand *strand = group->first; strand != NULL; strand = next) {
        next = strand->group_next;
        mtask__strand_cancel(strand);
    }
    if (owner != NULL)
        mtask__strand_nudge(owner);
}

static void mtask__taskgroup_child_ended(mtask__strand *self, const mtask_outcome *outcome) {
    mtask_taskgroup *group = self->group;
    bool failed = outcome->status != MTASK_OK && outcome->status != MTASK_CANCELED;
    if (self->group_prev != NULL)
        self->group_prev->group_next = self->group_next;
    else
        group->first = self->group_next;
    if (self->group_next != NULL)
        self->group_next->group_prev = self->group_prev;
    if (failed && group->failure.status == MTASK_OK) {
        group->failure = *outcome;
        mtask_taskgroup_cancel(group);
    }
    if (mtask__sub(&group->pending, 1, RELEASE) == 1) /* pairs with the acquire in the end */
        (void)mtask__wake(&group->pending, 1, 0);
}

/* Starts a strand of the group; `outcome` (or NULL) receives how it ends. */
static mtask_status mtask__taskgroup_start(mtask_taskgroup *group, const mtask_go_desc *desc,
                                           mtask_outcome *outcome) {
    mtask__strand *owner = group->limit.task;
    mtask_loop *loop = NULL;
    mtask__strand *strand;
    mtask_status status = desc->fn == NULL ? MTASK_INVALID : mtask__loop_find(&loop);
    if (desc->future != NULL)
        *desc->future = NULL;
    if (status == MTASK_OK && (owner == NULL || owner->loop != loop))
        status = MTASK_INVALID;
    if (status == MTASK_OK && group->canceled != 0)
        status = MTASK_CANCELED;
    if (status == MTASK_OK)
        status = mtask__strand_create(loop, desc, &strand);
    if (status != MTASK_OK)
        return status;
    strand->group = group;
    strand->outcome = outcome;
    strand->group_next = group->first;
    if (group->first != NULL)
        group->first->group_prev = strand;
    group->first = strand;
    mtask__add(&group->pending, 1, RELAXED); /* the loop's thread alone adds */
    mtask__strand_start(strand, false);
    return MTASK_OK;
}

MTASK_API mtask_status mtask_taskgroup_go(mtask_taskgroup *group, mtask_fn fn, void *arg,
                                          mtask_future **future) {
    mtask_go_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.fn = fn;
    desc.arg = arg;
    desc.future = future;
    return mtask__taskgroup_start(group, &desc, NULL);
}

MTASK_API size_t mtask_taskgroup_pending(const mtask_taskgroup *group) {
    return mtask__load(&group->pending, RELAXED); /* only a number */
}

/* Waits until all have ended. MTASK_OK, or why that was cut short: then they were cancelled, and
   have ended nevertheless. */
static mtask_status mtask__taskgroup_await(mtask_taskgroup *group) {
    mtask_status status = MTASK_OK;
    mtask_word pending;
    while ((pending = mtask__load(&group->pending, ACQUIRE)) != 0) { /* pairs with child_ended */
        int flags = status == MTASK_OK ? 0 : MTASK__NOCANCEL;
        mtask_status waited = mtask__wait(&group->pending, pending, MTASK_FOREVER, flags);
        if (waited != MTASK_OK && status == MTASK_OK) {
            status = waited;
            mtask_taskgroup_cancel(group);
        }
    }
    return status;
}

MTASK_API mtask_status mtask_taskgroup_end(mtask_taskgroup *group, mtask_outcome *outcome) {
    mtask__strand *self = mtask__strand_here();
    mtask_status status;
    if (self == NULL || self->limit != &group->limit)
        return MTASK_INVALID;
    status = mtask__taskgroup_await(group);
    mtask__limit_pop(self);
    group->limit.task = NULL;
    if (outcome != NULL)
        *outcome = group->failure;
    if (group->failure.status != MTASK_OK)
        return MTASK_FAILED;
    return status == MTASK_OK && group->canceled != 0 ? MTASK_CANCELED : status;
}

MTASK_API mtask_status mtask_gather(const mtask_call *calls, size_t count,
                                    mtask_outcome *outcomes) {
    mtask_taskgroup group;
    mtask_go_desc desc;
    mtask_status status = mtask_taskgroup_begin(&group);
    mtask_status ended;
    if (status != MTASK_OK)
        return status;
    memset(&desc, 0, sizeof desc);
    if (outcomes != NULL)
        memset(outcomes, 0, count * sizeof *outcomes);
    for (size_t i = 0; i < count && status == MTASK_OK; i++) {
        desc.fn = calls[i].fn;
        desc.arg = calls[i].arg;
        status = mtask__taskgroup_start(&group, &desc, outcomes != NULL ? &outcomes[i] : NULL);
        if (status != MTASK_OK)
            for (size_t j = i; outcomes != NULL && j < count; j++)
                outcomes[j].status = MTASK_CANCELED;
    }
    if (status != MTASK_OK)
        mtask_taskgroup_cancel(&group);
    ended = mtask_taskgroup_end(&group, NULL);
    return status != MTASK_OK ? status : ended;
}

/* ---- >>coro-local ---- */

typedef struct mtask__coro_value {
    struct mtask__coro_value *next;
    const mtask_coro_local *local;
    void *value;
} mtask__coro_value;

MTASK_API mtask_status mtask_coro_local_init(mtask_coro_local *local,
                                             void (*destructor)(void *value)) {
    mtask_status status = mtask_local_init(&local->thread, destructor);
    if (status == MTASK_OK)
        local->destructor = destructor;
    return status;
}

MTASK_API mtask_status mtask_coro_local_deinit(mtask_coro_local *local) {
    return mtask_local_deinit(&local->thread);
}

static mtask__coro_value *mtask__value_find(const mtask__strand *strand,
                                            const mtask_coro_local *local) {
    mtask__coro_value *value = strand->values;
    while (value != NULL && value->local != local)
        value = value->next;
    return value;
}

MTASK_API void *mtask_coro_local_get(const mtask_coro_local *local) {
    const mtask__strand *self = mtask__strand_here();
    const mtask__coro_value *value;
    if (self == NULL)
        return mtask_local_get(&local->thread);
    value = mtask__value_find(self, local);
    return value != NULL ? value->value : NULL;
}

MTASK_API mtask_status mtask_coro_local_set(mtask_coro_local *local, void *value) {
    mtask__strand *self = mtask__strand_here();
    mtask__coro_value *entry;
    if (self == NULL)
        return mtask_local_set(&local->thread, value);
    if (local->thread.key == 0)
        return MTASK_INVALID;
    entry = mtask__value_find(self, local);
    if (entry == NULL) {
        entry = (mtask__coro_value *)MTASK_MALLOC(sizeof *entry);
        if (entry == NULL)
            return MTASK_NOMEM;
        entry->local = local;
        entry->next = self->values;
        self->values = entry;
    }
    entry->value = value;
    return MTASK_OK;
}

/* The strand ends; a destructor may set values anew. */
static void mtask__values_destroy(mtask__strand *self) {
    while (self->values != NULL) {
        mtask__coro_value *entry = self->values;
        void (*destructor)(void *value) = entry->local->destructor;
        void *value = entry->value;
        self->values = entry->next;
        MTASK_FREE(entry);
        if (destructor != NULL && value != NULL)
            destructor(value);
    }
}

/* ---- >>dump ---- */

/* How much of its stack is in use: from where it stands up to the top. */
static size_t mtask__strand_stack_used(const mtask__strand *strand) {
    const char *top = (const char *)strand->stack;
    const char *at = (const char *)strand->context.words[MTASK__CORO_X86_64];
    if (strand->loop->running == strand)
        at = (const char *)__builtin_frame_address(0);
    return at > strand->stack->low && at < top ? (size_t)(top - at) : 0;
}

static void mtask__strand_describe(const mtask__strand *strand, mtask_task_info *info) {
    int64_t now = mtask_now();
    const mtask__waiter *waiter = strand->ended == MTASK_OK ? strand->waiter : NULL;
    memset(info, 0, sizeof *info);
    info->id = strand->task.id;
    info->name = strand->name;
    info->state = strand->loop->running == strand ? "running" : "ready";
    info->left = MTASK_FOREVER;
    info->fd = -1;
    info->stack_size = strand->stack->size;
    info->stack_used = mtask__strand_stack_used(strand);
    info->canceled = strand->canceled;
    if (waiter == NULL || !mtask__is_parked(waiter))
        return;
    info->state = "waiting";
    info->since = now - strand->since;
    if (strand->deadline != MTASK_FOREVER)
        info->left = strand->deadline > now ? strand->deadline - now : 0;
    if ((waiter->flags & MTASK__ALONE) == MTASK__ALONE)
        info->state = "sleeping";
    else if ((waiter->flags & MTASK__DESCRIPTOR) == MTASK__DESCRIPTOR)
        info->fd = (int)waiter->expected;
    else
        info->word = waiter->word;
}

MTASK_API mtask_status mtask_loop_tasks(const mtask_loop *loop, mtask_task_info *infos,
                                        size_t capacity, size_t *count) {
    size_t n = 0;
    for (const mtask__strand *strand = loop->oldest; strand != NULL; strand = strand->loop_next) {
        if (n < capacity)
            mtask__strand_describe(strand, &infos[n]);
        n++;
    }
    if (count != NULL)
        *count = n;
    return n <= capacity ? MTASK_OK : MTASK_OVERFLOW;
}

/* A task for people: "  7 'name' waiting on 0x7f... for 1.250 s, 0.750 s left; stack ...". */
static int mtask__strand_print(const mtask__strand *strand, char *text, size_t size) {
    mtask_task_info info;
    char word[48] = "";
    char left[48] = "";
    mtask__strand_describe(strand, &info);
    if (info.word != NULL)
        (void)snprintf(word, sizeof word, " on %p", (const void *)info.word);
    if (info.fd >= 0)
        (void)snprintf(word, sizeof word, " for descriptor %d", info.fd);
    if (info.left != MTASK_FOREVER)
        (void)snprintf(left, sizeof left, ", %.3f s left", (double)info.left / 1e9);
    return snprintf(text, size, "  task %llu '%s' %s%s for %.3f s%s; stack %zu of %zu bytes%s\n",
                    (unsigned long long)(info.id & 0xffffffff), info.name, info.state, word,
                    (double)info.since / 1e9, left, info.stack_used, info.stack_size,
                    info.canceled ? "; cancelled" : "");
}

MTASK_API mtask_status mtask_loop_dump(const mtask_loop *loop, int fd) {
    char text[256];
    int size = snprintf(text, sizeof text, "loop '%s': %zu tasks\n", loop->name, loop->count);
    mtask_status status = mtask__os_write(fd, text, (size_t)size);
    for (const mtask__strand *strand = loop->oldest; strand != NULL && status == MTASK_OK;
         strand = strand->loop_next) {
        size = mtask__strand_print(strand, text, sizeof text);
        status =
            mtask__os_write(fd, text, (size_t)size < sizeof text ? (size_t)size : sizeof text - 1);
    }
    return status;
}

/* The text of a dead-lock: who waits on what, as far as it fits. */
static void mtask__loop_explain(mtask_loop *loop) {
    size_t size = sizeof loop->text;
    size_t at = (size_t)snprintf(loop->text, size, "dead-lock of %zu tasks:", loop->count);
    for (const mtask__strand *strand = loop->oldest; strand != NULL && at < size;
         strand = strand->loop_next) {
        const void *word = strand->waiter != NULL ? (const void *)strand->waiter->word : NULL;
        at += (size_t)snprintf(loop->text + at, size - at, "%s '%s' waits on %p",
                               strand == loop->oldest ? "" : ",", strand->name, word);
    }
}

/* All that is left waits, for ever: each wait ends. */
static void mtask__loop_break(mtask_loop *loop) {
    if (!loop->deadlocked)
        mtask__loop_explain(loop);
    loop->deadlocked = true;
    loop->breaks++;
    if (loop->desc.on_deadlock != NULL)
        loop->desc.on_deadlock(loop, loop->desc.ctx);
    for (mtask__strand *strand = loop->oldest; strand != NULL; strand = strand->loop_next)
        (void)mtask__strand_interrupt(strand, MTASK_DEADLOCK);
}

# else

static const mtask__stack *mtask__stack_here(void) {
    const mtask_coro *coro = mtask__coro_get();
    return coro != NULL ? coro->stack : NULL;
}

# endif /* MTASK_CORO_NO_LOOP */

/* ---- >>context-amd64 ---- */

# if MTASK__CORO_X86_64

static void mtask__context_prepare(mtask__context *context, void *top, mtask__entry_fn *entry) {
    void **at = (void **)((uintptr_t)top / 16 * 16 - 8); /* as after a call: */
    *at = NULL;                                          /* from nowhere */
    context->words[0] = (void *)(uintptr_t)entry;
    context->words[1] = at;
    context->words[2] = context->words[3] = NULL;
    if (MTASK_CORO_MXCSR)
        __asm__ volatile("stmxcsr %0" : "=m"(context->mxcsr));
    __asm__ volatile("fnstcw %0" : "=m"(context->x87));
}

/* A CPU that keeps a shadow stack ends the program when a function returns on another stack. (Where
   there is none the instruction does nothing.) */
static mtask_status mtask__context_check(void) {
    uint64_t shadow = 0;
    __asm__ volatile("rdsspq %0" : "+r"(shadow));
    return shadow == 0 ? MTASK_OK : MTASK_UNSUPPORTED;
}

#  if !MTASK__CORO_INLINE
MTASK_API MTASK__UNWATCHED __attribute__((noinline)) void *
mtask__context_jump(mtask__context *from, mtask__context *to, void *note) {
    return mtask__context_swap(from, to, note);
}
#  endif
# endif

/* ---- >>context-native: how the blocks of the CPUs begin and end their functions ---- */

# if MTASK__CORO_NATIVE

/* What ARM wants to be told of a function: its instruction set, and (its own way to say it) that
   nobody can unwind it. */
#  if defined(__thumb2__) || (defined(__ARM_ARCH_PROFILE) && __ARM_ARCH_PROFILE == 'M')
#   define MTASK__CORO_THUMB 1
#   define MTASK__CORO_STATE ".syntax unified\n\t.thumb\n\t.thumb_func\n"
#  elif defined(__arm__)
#   define MTASK__CORO_THUMB 0
#   define MTASK__CORO_STATE ".syntax unified\n\t.arm\n"
#  else
#   define MTASK__CORO_STATE
#  endif
#  ifdef __arm__
#   define MTASK__CORO_BEFORE ".fnstart\n\t"
#   define MTASK__CORO_AFTER  ".cantunwind\n\t.fnend\n\t"
#  else
#   define MTASK__CORO_BEFORE
#   define MTASK__CORO_AFTER
#  endif

/* Functions of assembly. They are weak, and left away where the assembler knows them already, so
   that several files may hold them, also if the linker compiles all files together. */
#  define MTASK__CORO_TEXT_(x) #  x
#  define MTASK__CORO_TEXT(x)  MTASK__CORO_TEXT_(x)
#  define MTASK__CORO_FUNCTION(name)                                                               \
   ".ifndef " name "\n\t"                                                                          \
   ".pushsection .text." name ", \"ax\", %progbits\n\t"                                            \
   ".p2align 4\n\t"                                                                                \
   ".weak " name "\n\t"                                                                            \
   ".hidden " name "\n\t"                                                                          \
   ".type " name ", %function\n\t" MTASK__CORO_STATE name                                          \
   ":\n\t" MTASK__CORO_BEFORE MTASK__CORO_CFI("startproc")
#  define MTASK__CORO_FUNCTION_END(name)                                                           \
   MTASK__CORO_CFI("endproc")                                                                      \
   MTASK__CORO_AFTER                                                                               \
   ".size " name ", . - " name "\n\t"                                                              \
   ".popsection\n\t"                                                                               \
   ".endif\n"

/* What debuggers and profilers are told; nothing where the compiler itself tells them nothing. */
#  ifdef __GCC_HAVE_DWARF2_CFI_ASM
#   define MTASK__CORO_CFI(what) ".cfi_" what "\n\t"
#  else
#   define MTASK__CORO_CFI(what)
#  endif

/* With MTASK_CORO_NO_FPU, what keeps the modes of floating point apart is left away. */
#  ifdef MTASK_CORO_NO_FPU
#   define MTASK__CORO_MODES(code)
#  else
#   define MTASK__CORO_MODES(code) code
#  endif

/* mtask__context_jump saves what the ABI says a function must preserve on the stack it leaves, and
   that stack's pointer in from->words[0]. A new context begins in mtask__context_begin, which moves
   `from`, `to` and `note` to where arguments belong. A branch ends it rather than a return: the CPU
   would predict that the wrong way each time. Modes of floating point are loaded only where they
   differ: that is slow, and rare. */
#  define mtask__context_begin MTASK__VERSIONED(mtask__context_begin)
#  define MTASK__CORO_JUMP     MTASK__CORO_TEXT(mtask__context_jump)
#  define MTASK__CORO_BEGIN    MTASK__CORO_TEXT(mtask__context_begin)
extern __attribute__((visibility("hidden"))) void mtask__context_begin(void);

/* A frame of `words` words at the top of a stack, all zero. */
static uintptr_t *mtask__context_frame(mtask__context *context, void *top, size_t words) {
    uintptr_t *frame = (uintptr_t *)((uintptr_t)top / 16 * 16) - words;
    memset(frame, 0, words * sizeof *frame);
    context->words[0] = frame;
    return frame;
}
# endif

/* ---- >>context-i386 ---- */

# if MTASK__CORO_NATIVE && defined(__i386__)
#  if defined(__CET__) && (__CET__ & 1)
#   define MTASK__CORO_ENDBR "endbr32\n\t"
#   define MTASK__CORO_GO    "notrack jmp *%ecx\n\t"
#  else
#   define MTASK__CORO_ENDBR
#   define MTASK__CORO_GO "jmp *%ecx\n\t"
#  endif
#  ifdef __SSE__
#   define MTASK__CORO_SSE(code) MTASK__CORO_MODES(code)
#  else
#   define MTASK__CORO_SSE(code)
#  endif

/* The frame: MXCSR (4 bytes), x87 control word (4), edi, esi, ebx, ebp, return address. There are
   too few registers for all that must get across: `from` does in to->words[1]. */
/* clang-format off */
__asm__(
MTASK__CORO_FUNCTION(MTASK__CORO_JUMP)
    MTASK__CORO_ENDBR
    "movl 4(%esp), %ecx\n\t"
    "movl 8(%esp), %edx\n\t"
    "movl 12(%esp), %eax\n\t"
    MTASK__CORO_CFI("remember_state")
    "leal -24(%esp), %esp\n\t"
    MTASK__CORO_CFI("def_cfa_offset 28")
    MTASK__CORO_SSE(
    "stmxcsr (%esp)\n\t")
    MTASK__CORO_MODES(
    "fnstcw 4(%esp)\n\t")
    "movl %edi, 8(%esp)\n\t"
    "movl %esi, 12(%esp)\n\t"
    "movl %ebx, 16(%esp)\n\t"
    "movl %ebp, 20(%esp)\n\t"
    MTASK__CORO_CFI("offset edi, -20")
    MTASK__CORO_CFI("offset esi, -16")
    MTASK__CORO_CFI("offset ebx, -12")
    MTASK__CORO_CFI("offset ebp, -8")
    MTASK__CORO_SSE(
    "movl (%esp), %ebx\n\t")
    MTASK__CORO_MODES(
    "movl 4(%esp), %esi\n\t")
    "movl %ecx, 4(%edx)\n\t"
    "movl %esp, (%ecx)\n\t"
    "movl (%edx), %esp\n\t"
    MTASK__CORO_SSE(
    "xorl (%esp), %ebx\n\t"
    "testl $0xffc0, %ebx\n\t"
    "jz 1f\n\t"
    "ldmxcsr (%esp)\n"
    "1:\n\t")
    MTASK__CORO_MODES(
    "cmpw 4(%esp), %si\n\t"
    "je 2f\n\t"
    "fldcw 4(%esp)\n"
    "2:\n\t")
    "movl 8(%esp), %edi\n\t"
    "movl 12(%esp), %esi\n\t"
    "movl 16(%esp), %ebx\n\t"
    "movl 20(%esp), %ebp\n\t"
    "movl 24(%esp), %ecx\n\t"
    "addl $28, %esp\n\t"
    MTASK__CORO_CFI("restore_state")
    MTASK__CORO_CFI("def_cfa_offset 0")
    MTASK__CORO_CFI("register eip, ecx")
    MTASK__CORO_GO
MTASK__CORO_FUNCTION_END(MTASK__CORO_JUMP)
MTASK__CORO_FUNCTION(MTASK__CORO_BEGIN)
    MTASK__CORO_CFI("undefined eip")
    "movl %ebx, %ecx\n\t"
    "movl 4(%edx), %ebx\n\t"
    "pushl %eax\n\t"
    "pushl %edx\n\t"
    "pushl %ebx\n\t"
    "pushl %ebp\n\t" /* 0, for the return address */
    MTASK__CORO_GO
MTASK__CORO_FUNCTION_END(MTASK__CORO_BEGIN));
/* clang-format on */

/* One word is left above the frame, so that the stack is aligned when `entry` is entered. */
static void mtask__context_prepare(mtask__context *context, void *top, mtask__entry_fn *entry) {
    uintptr_t *frame = mtask__context_frame(context, top, 8);
    MTASK__CORO_SSE(__asm__ volatile("stmxcsr %0" : "=m"(frame[0]));)
    MTASK__CORO_MODES(__asm__ volatile("fnstcw %0" : "=m"(frame[1]));)
    frame[4] = (uintptr_t)entry;
    frame[6] = (uintptr_t)mtask__context_begin;
}

static mtask_status mtask__context_check(void) {
    return MTASK_OK;
}
# endif

/* ---- >>context-aarch64 ---- */

# if MTASK__CORO_NATIVE && defined(__aarch64__)
#  if defined(__ARM_FEATURE_BTI_DEFAULT)   /* where a branch must not lead to behind a call */
#   define MTASK__CORO_LAND "hint #34\n\t" /* bti c */
#   define MTASK__CORO_GO   "ret\n\t"
#  else
#   define MTASK__CORO_LAND
#   define MTASK__CORO_GO "br x30\n\t"
#  endif

/* A pair of registers, at a distance from the frame's begin. */
#  define MTASK__CORO_KEEP(x, y, at)                                                               \
   "stp " x ", " y ", [sp, #" at "]\n\t" MTASK__CORO_CFI("offset " x ", " at "-176")               \
       MTASK__CORO_CFI("offset " y ", " at "-168")

/* The frame, of words: x29, x30, x19 ... x28, d8 ... d15, FPCR, none. */
/* clang-format off */
__asm__(
MTASK__CORO_FUNCTION(MTASK__CORO_JUMP)
    MTASK__CORO_LAND
    MTASK__CORO_CFI("remember_state")
    "sub sp, sp, #176\n\t"
    MTASK__CORO_CFI("def_cfa_offset 176")
    MTASK__CORO_KEEP("x29", "x30", "0")
    MTASK__CORO_KEEP("x19", "x20", "16")
    MTASK__CORO_KEEP("x21", "x22", "32")
    MTASK__CORO_KEEP("x23", "x24", "48")
    MTASK__CORO_KEEP("x25", "x26", "64")
    MTASK__CORO_KEEP("x27", "x28", "80")
    "stp d8, d9, [sp, #96]\n\t"
    "stp d10, d11, [sp, #112]\n\t"
    "stp d12, d13, [sp, #128]\n\t"
    "stp d14, d15, [sp, #144]\n\t"
    MTASK__CORO_MODES(
    "mrs x4, fpcr\n\t"
    "str x4, [sp, #160]\n\t")
    "mov x3, sp\n\t"
    "str x3, [x0]\n\t"
    "ldr x3, [x1]\n\t"
    "mov sp, x3\n\t"
    MTASK__CORO_MODES(
    "ldr x5, [sp, #160]\n\t"
    "cmp x4, x5\n\t"
    "b.eq 1f\n\t"
    "msr fpcr, x5\n"
    "1:\n\t")
    "ldp d14, d15, [sp, #144]\n\t"
    "ldp d12, d13, [sp, #128]\n\t"
    "ldp d10, d11, [sp, #112]\n\t"
    "ldp d8, d9, [sp, #96]\n\t"
    "ldp x27, x28, [sp, #80]\n\t"
    "ldp x25, x26, [sp, #64]\n\t"
    "ldp x23, x24, [sp, #48]\n\t"
    "ldp x21, x22, [sp, #32]\n\t"
    "ldp x19, x20, [sp, #16]\n\t"
    "mov x3, x0\n\t"
    "mov x0, x2\n\t"
    "ldp x29, x30, [sp], #176\n\t"
    MTASK__CORO_CFI("restore_state")
    MTASK__CORO_GO
MTASK__CORO_FUNCTION_END(MTASK__CORO_JUMP)
MTASK__CORO_FUNCTION(MTASK__CORO_BEGIN)
    MTASK__CORO_CFI("undefined x30")
    "mov x0, x3\n\t"
    "mov x16, x19\n\t" /* by which a branch may lead to a `bti c` */
    "mov x30, xzr\n\t"
    "br x16\n\t"
MTASK__CORO_FUNCTION_END(MTASK__CORO_BEGIN));
/* clang-format on */

static void mtask__context_prepare(mtask__context *context, void *top, mtask__entry_fn *entry) {
    uintptr_t *frame = mtask__context_frame(context, top, 22);
    frame[1] = (uintptr_t)mtask__context_begin;
    frame[2] = (uintptr_t)entry;
    MTASK__CORO_MODES(__asm__ volatile("mrs %0, fpcr" : "=r"(frame[20]));)
}

/* A CPU that guards its own stack of return addresses (FEAT_GCS) clears this bit; others do
   nothing. */
static mtask_status mtask__context_check(void) {
    register uint64_t unguarded __asm__("x16") = 1;
    __asm__ volatile("hint #40" : "+r"(unguarded)); /* chkfeat x16 */
    return unguarded != 0 ? MTASK_OK : MTASK_UNSUPPORTED;
}
# endif

/* ---- >>context-arm: ARM, Thumb-2 and, for the smallest, Thumb-1 ---- */

# if MTASK__CORO_NATIVE && defined(__arm__)
#  if !defined(__thumb2__) && MTASK__CORO_THUMB
#   define MTASK__CORO_THUMB1 1
#  else
#   define MTASK__CORO_THUMB1 0
#  endif
#  if defined(__ARM_FP) || defined(__ARM_FEATURE_MVE)
#   define MTASK__CORO_VFP(code) code
#   define MTASK__CORO_WORDS     26
#  else
#   define MTASK__CORO_VFP(code)
#   define MTASK__CORO_WORDS 10
#  endif
#  if defined(__ARM_FEATURE_BTI_DEFAULT)   /* where a branch must not lead to behind a call */
#   define MTASK__CORO_LAND "hint #15\n\t" /* bti */
#   define MTASK__CORO_GO   "bx lr\n\t"
#  else
#   define MTASK__CORO_LAND
#   define MTASK__CORO_GO "bx r12\n\t"
#  endif

/* The frame, of words: with VFP d8 ... d15 (16 words); FPSCR or nothing; r4 ... r11; return
   address. Of Thumb-1, which cannot push r8: r8 ... r11, nothing, r4 ... r7, return address. The
   uppermost five bits of FPSCR and 0x9f are flags of what happened, which are nobody's. */
/* clang-format off */
__asm__(
MTASK__CORO_FUNCTION(MTASK__CORO_JUMP)
    MTASK__CORO_LAND
    MTASK__CORO_CFI("remember_state")
#  if MTASK__CORO_THUMB1
    "push {r3-r7, lr}\n\t"
    MTASK__CORO_CFI("def_cfa_offset 24")
    MTASK__CORO_CFI("offset lr, -4")
    MTASK__CORO_CFI("offset r7, -8")
    MTASK__CORO_CFI("offset r6, -12")
    MTASK__CORO_CFI("offset r5, -16")
    MTASK__CORO_CFI("offset r4, -20")
    "mov r4, r8\n\t"
    "mov r5, r9\n\t"
    "mov r6, r10\n\t"
    "mov r7, r11\n\t"
    "push {r4-r7}\n\t"
    MTASK__CORO_CFI("def_cfa_offset 40")
#  else
    MTASK__CORO_VFP(MTASK__CORO_MODES(
    "vmrs r3, fpscr\n\t"))
    "push {r3-r11, lr}\n\t"
    MTASK__CORO_CFI("def_cfa_offset 40")
    MTASK__CORO_CFI("offset lr, -4")
    MTASK__CORO_CFI("offset r11, -8")
    MTASK__CORO_CFI("offset r10, -12")
    MTASK__CORO_CFI("offset r9, -16")
    MTASK__CORO_CFI("offset r8, -20")
    MTASK__CORO_CFI("offset r7, -24")
    MTASK__CORO_CFI("offset r6, -28")
    MTASK__CORO_CFI("offset r5, -32")
    MTASK__CORO_CFI("offset r4, -36")
    MTASK__CORO_VFP(
    "vpush {d8-d15}\n\t"
    MTASK__CORO_CFI("def_cfa_offset 104")
    MTASK__CORO_MODES(
    "mov r12, r3\n\t"))
#  endif
    "mov r3, sp\n\t"
    "str r3, [r0]\n\t"
    "ldr r3, [r1]\n\t"
    "mov sp, r3\n\t"
#  if MTASK__CORO_THUMB1
    "pop {r4-r7}\n\t"
    "mov r8, r4\n\t"
    "mov r9, r5\n\t"
    "mov r10, r6\n\t"
    "mov r11, r7\n\t"
    "pop {r3-r7}\n\t"
    "pop {r3}\n\t"
    "mov lr, r3\n\t"
#  else
    MTASK__CORO_VFP(
    "vpop {d8-d15}\n\t")
    "pop {r3-r11, lr}\n\t"
    MTASK__CORO_VFP(MTASK__CORO_MODES(
    "eor r12, r12, r3\n\t"
    "bic r12, r12, #0xf8000000\n\t"
    "bics r12, r12, #0x9f\n\t"
    "beq 1f\n\t"
    "vmsr fpscr, r3\n"
    "1:\n\t"))
#  endif
    MTASK__CORO_CFI("restore_state")
    "mov r12, lr\n\t"
    "mov r3, r0\n\t"
    "mov r0, r2\n\t"
    MTASK__CORO_GO
MTASK__CORO_FUNCTION_END(MTASK__CORO_JUMP)
MTASK__CORO_FUNCTION(MTASK__CORO_BEGIN)
    MTASK__CORO_CFI("undefined lr")
    "mov r0, r3\n\t"
    "movs r3, #0\n\t"
    "mov lr, r3\n\t"
    "bx r4\n\t"
MTASK__CORO_FUNCTION_END(MTASK__CORO_BEGIN));
/* clang-format on */

static void mtask__context_prepare(mtask__context *context, void *top, mtask__entry_fn *entry) {
    uintptr_t *frame = mtask__context_frame(context, top, MTASK__CORO_WORDS);
    uintptr_t *saved = frame + MTASK__CORO_WORDS - 10;
    MTASK__CORO_VFP(MTASK__CORO_MODES(__asm__ volatile("vmrs %0, fpscr" : "=r"(saved[0]));))
    saved[MTASK__CORO_THUMB1 ? 5 : 1] = (uintptr_t)entry;
    saved[9] = (uintptr_t)mtask__context_begin;
}

static mtask_status mtask__context_check(void) {
    return MTASK_OK;
}
# endif

/* ---- >>context-riscv: 64 and 32 bits ---- */

# if MTASK__CORO_NATIVE && defined(__riscv)
#  if __riscv_xlen == 64
#   define MTASK__CORO_SAVE "sd "
#   define MTASK__CORO_LOAD "ld "
#   define MTASK__CORO_W    "8"
#   define MTASK__CORO_X    112 /* bytes of 14 words, rounded up to 16 */
#  else
#   define MTASK__CORO_SAVE "sw "
#   define MTASK__CORO_LOAD "lw "
#   define MTASK__CORO_W    "4"
#   define MTASK__CORO_X    64
#  endif
#  if defined(__riscv_float_abi_double)
#   define MTASK__CORO_FSAVE "fsd "
#   define MTASK__CORO_FLOAD "fld "
#   define MTASK__CORO_F     96
#  elif defined(__riscv_float_abi_single)
#   define MTASK__CORO_FSAVE "fsw "
#   define MTASK__CORO_FLOAD "flw "
#   define MTASK__CORO_F     96
#  else
#   define MTASK__CORO_F 0
#  endif
#  ifdef __riscv_flen
#   define MTASK__CORO_FRM(code) MTASK__CORO_MODES(code)
#  else
#   define MTASK__CORO_FRM(code)
#  endif
#  define MTASK__CORO_SIZE MTASK__CORO_TEXT(MTASK__CORO_X) "+" MTASK__CORO_TEXT(MTASK__CORO_F)

/* To and from a place in the frame: `at` counts words; with F, places of fs0 and those after it. */
#  define MTASK__CORO_KEEP(x, at)                                                                  \
   MTASK__CORO_SAVE x                                                                              \
       ", " at "*" MTASK__CORO_W                                                                   \
       "(sp)\n\t" MTASK__CORO_CFI("offset " x ", " at "*" MTASK__CORO_W "-(" MTASK__CORO_SIZE ")")
#  define MTASK__CORO_TAKE(x, at) MTASK__CORO_LOAD x ", " at "*" MTASK__CORO_W "(sp)\n\t"
#  ifdef MTASK__CORO_FSAVE
#   define MTASK__CORO_FKEEP(f, at)                                                                \
    MTASK__CORO_FSAVE f ", " MTASK__CORO_TEXT(MTASK__CORO_X) "+8*" at "(sp)\n\t"
#   define MTASK__CORO_FTAKE(f, at)                                                                \
    MTASK__CORO_FLOAD f ", " MTASK__CORO_TEXT(MTASK__CORO_X) "+8*" at "(sp)\n\t"
#  else
#   define MTASK__CORO_FKEEP(f, at)
#   define MTASK__CORO_FTAKE(f, at)
#  endif

/* The frame, of words: return address, s0 ... s11, rounding mode, and in 8 bytes each fs0 ... fs11
   where functions preserve them. (A branch by t2 is no return to the CPU.) */
/* clang-format off */
__asm__(
MTASK__CORO_FUNCTION(MTASK__CORO_JUMP)
    MTASK__CORO_CFI("remember_state")
    "addi sp, sp, -(" MTASK__CORO_SIZE ")\n\t"
    MTASK__CORO_CFI("def_cfa_offset " MTASK__CORO_SIZE)
    MTASK__CORO_KEEP("ra", "0")
    MTASK__CORO_KEEP("s0", "1")
    MTASK__CORO_KEEP("s1", "2")
    MTASK__CORO_KEEP("s2", "3")
    MTASK__CORO_KEEP("s3", "4")
    MTASK__CORO_KEEP("s4", "5")
    MTASK__CORO_KEEP("s5", "6")
    MTASK__CORO_KEEP("s6", "7")
    MTASK__CORO_KEEP("s7", "8")
    MTASK__CORO_KEEP("s8", "9")
    MTASK__CORO_KEEP("s9", "10")
    MTASK__CORO_KEEP("s10", "11")
    MTASK__CORO_KEEP("s11", "12")
    MTASK__CORO_FKEEP("fs0", "0")
    MTASK__CORO_FKEEP("fs1", "1")
    MTASK__CORO_FKEEP("fs2", "2")
    MTASK__CORO_FKEEP("fs3", "3")
    MTASK__CORO_FKEEP("fs4", "4")
    MTASK__CORO_FKEEP("fs5", "5")
    MTASK__CORO_FKEEP("fs6", "6")
    MTASK__CORO_FKEEP("fs7", "7")
    MTASK__CORO_FKEEP("fs8", "8")
    MTASK__CORO_FKEEP("fs9", "9")
    MTASK__CORO_FKEEP("fs10", "10")
    MTASK__CORO_FKEEP("fs11", "11")
    MTASK__CORO_FRM(
    "frrm t0\n\t"
    MTASK__CORO_SAVE "t0, 13*" MTASK__CORO_W "(sp)\n\t")
    MTASK__CORO_SAVE "sp, 0(a0)\n\t"
    MTASK__CORO_LOAD "sp, 0(a1)\n\t"
    MTASK__CORO_FRM(
    MTASK__CORO_TAKE("t1", "13")
    "beq t0, t1, 1f\n\t"
    "fsrm t1\n"
    "1:\n\t")
    MTASK__CORO_FTAKE("fs11", "11")
    MTASK__CORO_FTAKE("fs10", "10")
    MTASK__CORO_FTAKE("fs9", "9")
    MTASK__CORO_FTAKE("fs8", "8")
    MTASK__CORO_FTAKE("fs7", "7")
    MTASK__CORO_FTAKE("fs6", "6")
    MTASK__CORO_FTAKE("fs5", "5")
    MTASK__CORO_FTAKE("fs4", "4")
    MTASK__CORO_FTAKE("fs3", "3")
    MTASK__CORO_FTAKE("fs2", "2")
    MTASK__CORO_FTAKE("fs1", "1")
    MTASK__CORO_FTAKE("fs0", "0")
    MTASK__CORO_TAKE("s11", "12")
    MTASK__CORO_TAKE("s10", "11")
    MTASK__CORO_TAKE("s9", "10")
    MTASK__CORO_TAKE("s8", "9")
    MTASK__CORO_TAKE("s7", "8")
    MTASK__CORO_TAKE("s6", "7")
    MTASK__CORO_TAKE("s5", "6")
    MTASK__CORO_TAKE("s4", "5")
    MTASK__CORO_TAKE("s3", "4")
    MTASK__CORO_TAKE("s2", "3")
    MTASK__CORO_TAKE("s1", "2")
    MTASK__CORO_TAKE("s0", "1")
    MTASK__CORO_TAKE("ra", "0")
    "addi sp, sp, " MTASK__CORO_SIZE "\n\t"
    MTASK__CORO_CFI("restore_state")
    "mv t2, ra\n\t"
    "mv t0, a0\n\t"
    "mv a0, a2\n\t"
    "jr t2\n\t"
MTASK__CORO_FUNCTION_END(MTASK__CORO_JUMP)
MTASK__CORO_FUNCTION(MTASK__CORO_BEGIN)
    MTASK__CORO_CFI("undefined ra")
    "mv a0, t0\n\t"
    "mv t2, s1\n\t"
    "li ra, 0\n\t"
    "jr t2\n\t"
MTASK__CORO_FUNCTION_END(MTASK__CORO_BEGIN));
/* clang-format on */

static void mtask__context_prepare(mtask__context *context, void *top, mtask__entry_fn *entry) {
    const size_t words = (MTASK__CORO_X + MTASK__CORO_F) / sizeof(uintptr_t);
    uintptr_t *frame = mtask__context_frame(context, top, words);
    frame[0] = (uintptr_t)mtask__context_begin;
    frame[2] = (uintptr_t)entry;
    MTASK__CORO_FRM(__asm__ volatile("frrm %0" : "=r"(frame[13]));)
}

static mtask_status mtask__context_check(void) {
    return MTASK_OK;
}
# endif

/* ---- >>posix-ucontext: made by makecontext, switched by setjmp and longjmp ---- */

# if !MTASK__CORO_X86_64 && !MTASK__CORO_NATIVE
#  if defined(__linux__) && !defined(__GLIBC__)
#   error "mtask: this C library has no makecontext: do without MTASK_CORO_UCONTEXT."
#  endif
#  include <setjmp.h>
#  include <ucontext.h>

/* A context that has begun is a jmp_buf on its own stack (words[0]); one that has not is a
   ucontext_t at the top of its stack (words[1]). swapcontext would make a system call for the
   signal mask, each time. */

/* What a context's `note` and predecessor pass through: makecontext only passes numbers. */
typedef struct mtask__passage {
    mtask__context *from;
    mtask__context *to;
    void *note;
    mtask__entry_fn *entry;
} mtask__passage;

#  define mtask__passage_here MTASK__VERSIONED(mtask__passage_here)
MTASK__ONE MTASK__THREAD_LOCAL mtask__passage mtask__passage_here;
MTASK__MERGED(mtask__passage_here)

static MTASK__UNWATCHED __attribute__((noinline)) mtask__passage *mtask__passage_me(void) {
    return &mtask__passage_here;
}

static MTASK__UNWATCHED void mtask__context_begin(void) {
    mtask__passage *passage = mtask__passage_me();
    mtask__entry_fn *entry = (mtask__entry_fn *)(uintptr_t)passage->to->words[2];
    MTASK__OUTERMOST();
    entry(passage->from, passage->to, passage->note);
}

static void mtask__context_prepare(mtask__context *context, void *top, mtask__entry_fn *entry) {
    ucontext_t *begin = (ucontext_t *)(((uintptr_t)top - sizeof *begin) / 64 * 64);
    memset(begin, 0, sizeof *begin);
    (void)getcontext(begin); /* cannot fail: it reads registers, and the signal mask */
    begin->uc_stack.ss_sp = (char *)begin - MTASK_CORO_STACK_MIN / 4;
    begin->uc_stack.ss_size = MTASK_CORO_STACK_MIN / 4; /* only the sum of the two is looked at */
    begin->uc_link = NULL;
    makecontext(begin, mtask__context_begin, 0);
    context->words[0] = NULL;
    context->words[1] = begin;
    context->words[2] = (void *)(uintptr_t)entry;
}

static mtask_status mtask__context_check(void) {
    return MTASK_OK;
}

/* The functions themselves: with _FORTIFY_SOURCE, longjmp would stop the program because it leads
   to a stack that is none of the callers'. */
#  ifdef __GLIBC__
void mtask__longjmp(struct __jmp_buf_tag *buffer, int value) __asm__("_longjmp")
    __attribute__((noreturn));
#  else
#   define mtask__longjmp longjmp
#  endif

/* What setjmp does not keep: the modes of floating point. */
#  if (defined(__x86_64__) || (defined(__i386__) && defined(__SSE__))) &&                          \
      !defined(MTASK_CORO_NO_FPU)
static void mtask__modes_save(mtask__context *context) {
    if (MTASK_CORO_MXCSR)
        __asm__ volatile("stmxcsr %0" : "=m"(context->mxcsr));
    __asm__ volatile("fnstcw %0" : "=m"(context->x87));
}

/* As MTASK__CORO_FPU. */
static void mtask__modes_load(const mtask__context *context) {
    uint32_t mxcsr = context->mxcsr;
    uint32_t x87 = 0;
    __asm__ volatile("fnstcw %0" : "=m"(x87));
    x87 = (x87 ^ context->x87) & 0xffff;
    if (!MTASK_CORO_MXCSR && x87 == 0)
        return;
    if (!MTASK_CORO_MXCSR) {
        __asm__ volatile("stmxcsr %0" : "=m"(mxcsr));
        mxcsr ^= (x87 & 0xc00) << 3 | (x87 & 0x3f) << 7;
    }
    __asm__ volatile("ldmxcsr %0\n\tfldcw %1" : : "m"(mxcsr), "m"(context->x87));
}
#  else
static void mtask__modes_save(mtask__context *context) {
    (void)context;
}

static void mtask__modes_load(const mtask__context *context) {
    (void)context;
}
#  endif

#  if MTASK__CORO_WATCHED
/* Sanitizers do not allow to jump between stacks. */
MTASK_API MTASK__UNWATCHED __attribute__((noinline)) void *
mtask__context_jump(mtask__context *from, mtask__context *to, void *note) {
    mtask__passage *passage = mtask__passage_me();
    ucontext_t here;
    passage->from = from;
    passage->to = to;
    passage->note = note;
    from->words[1] = &here;
    (void)swapcontext(&here, (ucontext_t *)to->words[1]);
    return mtask__passage_me()->note;
}
#  else
MTASK_API __attribute__((noinline)) void *mtask__context_jump(mtask__context *from,
                                                              mtask__context *to, void *note) {
    mtask__passage *passage = mtask__passage_me();
    jmp_buf here;
    passage->from = from;
    passage->to = to;
    passage->note = note;
    from->words[0] = &here;
    from->words[1] = NULL;
    mtask__modes_save(from);
    if (_setjmp(here) == 0) {
        if (to->words[1] != NULL)
            (void)setcontext((ucontext_t *)to->words[1]);
        mtask__longjmp(*(jmp_buf *)to->words[0], 1);
    }
    mtask__modes_load(from);
    return mtask__passage_me()->note;
}
#  endif
# endif

/* ---- >>posix-stacks ---- */

# if defined(__unix__) && !defined(MTASK_PLATFORM_CUSTOM) && !defined(MTASK_NO_THREADS)
#  include <sys/mman.h>
#  include <unistd.h>
#  ifdef __has_include
#   if __has_include(<valgrind/memcheck.h>)
#    include <valgrind/memcheck.h>
#   endif
#  endif

/* Of Linux 6.13 and later: a guard that is no mapping of its own, of which a process may have only
   so many (vm.max_map_count). */
#  define MTASK__GUARD_INSTALL 102

/* Compilers for AArch64 touch a large frame only every 64 KiB, and count on a guard of that size. */
static size_t mtask__os_guard_size(void) {
    static mtask_word size; /* 0: not asked for yet; the same whoever asks */
    mtask_word known = mtask__load(&size, RELAXED);
    if (known == 0) {
        long page = sysconf(_SC_PAGESIZE);
        known = page > 0 ? (mtask_word)page : 4096;
#  ifdef __aarch64__
        known = known > 65536 ? known : 65536;
#  endif
        mtask__store(&size, known, RELAXED);
    }
    return known;
}

static char *mtask__os_stacks_map(size_t size) {
    int flags = MAP_PRIVATE | MAP_ANONYMOUS;
    int saved = errno;
    void *memory;
#  ifdef MAP_NORESERVE
    flags |= MAP_NORESERVE;
#  endif
#  ifdef MAP_STACK
    flags |= MAP_STACK;
#  endif
    memory = mmap(NULL, size, PROT_READ | PROT_WRITE, flags, -1, 0);
#  ifdef MADV_NOHUGEPAGE
    if (memory != MAP_FAILED)
        (void)madvise(memory, size, MADV_NOHUGEPAGE); /* a system without them refuses */
#  endif
    errno = saved;
    return memory == MAP_FAILED ? NULL : (char *)memory;
}

static void mtask__os_stacks_unmap(char *memory, size_t size) {
    int saved = errno;
    (void)munmap(memory, size);
    errno = saved;
}

/* How many guards may be mappings of their own: so many that half of the mappings that a process
   may have are left to the rest of the program. Each takes two. */
static size_t mtask__os_guards_most(void) {
    unsigned long most = 65530;
    FILE *file = fopen("/proc/sys/vm/max_map_count", "re");
    if (file != NULL) {
        if (fscanf(file, "%lu", &most) != 1)
            most = 65530;
        (void)fclose(file);
    }
    return most / 4;
}

/* Whether this system knows the cheap guard. One that says yes to an advice that nobody gives (a
   simulator) does not. */
static bool mtask__os_guards_are_cheap(char *low, size_t size) {
    return madvise(low, size, 0x4d54534b) != 0 && madvise(low, size, MTASK__GUARD_INSTALL) == 0;
}

/* Under the lock. */
static bool mtask__os_stack_guard(char *low, size_t size) {
    static size_t left;
    static bool known;
    static bool cheap;
    int saved = errno;
    bool done;
    if (!known) {
        known = true;
        cheap = mtask__os_guards_are_cheap(low, size);
        left = mtask__os_guards_most();
    }
    done = cheap && madvise(low, size, MTASK__GUARD_INSTALL) == 0;
    if (!done && left > 0) {
        left--;
        done = mprotect(low, size, PROT_NONE) == 0;
    }
    errno = saved;
    return done;
}

static unsigned mtask__os_stack_watch(char *low, char *top) {
    (void)low, (void)top;
#  ifdef VALGRIND_STACK_REGISTER
    return (unsigned)VALGRIND_STACK_REGISTER(low, top - 1);
#  else
    return 0;
#  endif
}

static void mtask__os_stack_renew(char *low, size_t size) {
    (void)low, (void)size;
#  ifdef VALGRIND_MAKE_MEM_UNDEFINED
    (void)VALGRIND_MAKE_MEM_UNDEFINED(low, size);
#  endif
}

static void mtask__os_stack_unwatch(unsigned watch) {
    (void)watch;
#  ifdef VALGRIND_STACK_DEREGISTER
    VALGRIND_STACK_DEREGISTER(watch);
#  endif
}
# endif

/* ---- >>posix-none: no system that supplies them ---- */

# if !defined(__unix__) || defined(MTASK_PLATFORM_CUSTOM) || defined(MTASK_NO_THREADS)
static size_t mtask__os_guard_size(void) {
    return 0;
}

static char *mtask__os_stacks_map(size_t size) {
    (void)size;
    return NULL;
}

static void mtask__os_stacks_unmap(char *memory, size_t size) {
    (void)memory, (void)size;
}

static bool mtask__os_stack_guard(char *low, size_t size) {
    (void)low, (void)size;
    return false;
}

static unsigned mtask__os_stack_watch(char *low, char *top) {
    (void)low, (void)top;
    return 0;
}

static void mtask__os_stack_unwatch(unsigned watch) {
    (void)watch;
}

static void mtask__os_stack_renew(char *low, size_t size) {
    (void)low, (void)size;
}
# endif

/* ---- >>posix-poller: poll, and a pipe by which it is woken ---- */

# if !defined(MTASK_CORO_NO_LOOP) && defined(__unix__) && !defined(MTASK_NO_THREADS)
#  include <fcntl.h>
#  include <poll.h>
#  include <time.h>
#  include <unistd.h>

/* Nothing, if it has passed; else how long until then. */
static struct timespec mtask__os_span(int64_t deadline) {
    int64_t left = mtask_until(deadline);
    struct timespec span;
    span.tv_sec = (time_t)(left / MTASK_SEC(1));
    span.tv_nsec = (long)(left % MTASK_SEC(1));
    return span;
}

static mtask_status mtask__os_write(int fd, const char *text, size_t size) {
    while (size > 0) {
        ssize_t written = write(fd, text, size);
        if (written < 0 && errno != EINTR)
            return MTASK_SYSTEM;
        if (written > 0) {
            text += written;
            size -= (size_t)written;
        }
    }
    return MTASK_OK;
}

static void mtask__os_nap(void) {
    const struct timespec span = {0, 1000000};
    int saved = errno;
    (void)nanosleep(&span, NULL);
    errno = saved;
}

/* Reads what wakes have written, until there is no more. */
static void mtask__os_drain(int fd) {
    char bytes[64];
    int saved = errno;
    while (read(fd, bytes, sizeof bytes) > 0)
        continue;
    errno = saved;
}

#  if defined(__linux__) && !defined(MTASK_FORCE_POSIX) && !defined(MTASK_LOOP_POLL) &&            \
      !defined(MTASK_PLATFORM_CUSTOM)
#   define MTASK__LOOP_EPOLL 1
#  else
#   define MTASK__LOOP_EPOLL 0
#  endif

#  if !MTASK__LOOP_EPOLL
/* A pipe that does not block, and that children do not inherit. */
MTASK__INLINE bool mtask__os_pipe(int ends[2]) {
    int saved;
    if (pipe(ends) != 0) {
        ends[0] = ends[1] = -1;
        return false;
    }
    for (int i = 0; i < 2; i++)
        if (fcntl(ends[i], F_SETFL, O_NONBLOCK) != 0 || fcntl(ends[i], F_SETFD, FD_CLOEXEC) != 0) {
            saved = errno;
            (void)close(ends[0]);
            (void)close(ends[1]);
            ends[0] = ends[1] = -1;
            errno = saved;
            return false;
        }
    return true;
}

/* A number that is watched. */
typedef struct mtask__watched {
    uint32_t tag;
    uint32_t place; /* in `polled`; 0: it is not wanted, [0] wakes the loop */
} mtask__watched;

/* Room for numbers up to `fd`. */
static mtask_status mtask__os_poller_grow(mtask__poller *poller, int fd) {
    size_t capacity = poller->capacity < 32 ? 32 : poller->capacity;
    void *memory;
    while (capacity < (size_t)fd + 2)
        capacity *= 2;
    if (capacity == poller->capacity)
        return MTASK_OK;
    memory = MTASK_REALLOC(poller->polled, capacity * sizeof *poller->polled);
    if (memory == NULL)
        return MTASK_NOMEM;
    poller->polled = (struct pollfd *)memory;
    memory = MTASK_REALLOC(poller->known, capacity * sizeof *poller->known);
    if (memory == NULL)
        return MTASK_NOMEM;
    poller->known = (mtask__watched *)memory;
    memset(poller->known + poller->capacity, 0,
           (capacity - poller->capacity) * sizeof *poller->known);
    poller->capacity = capacity;
    return MTASK_OK;
}

static void mtask__os_poller_close(mtask__poller *poller) {
    int saved = errno;
    for (int i = 0; i < 2; i++)
        if (poller->fds[i] >= 0)
            (void)close(poller->fds[i]);
    MTASK_FREE(poller->polled);
    MTASK_FREE(poller->known);
    errno = saved;
}

/* fds: the reading end, the writing end. */
static mtask_status mtask__os_poller_open(mtask__poller *poller) {
    mtask_status status;
    memset(poller, 0, sizeof *poller);
    poller->fds[0] = poller->fds[1] = poller->fds[2] = -1;
    status = mtask__os_pipe(poller->fds) ? MTASK_OK : MTASK_SYSTEM;
    if (status == MTASK_OK)
        status = mtask__os_poller_grow(poller, 0);
    if (status != MTASK_OK) {
        mtask__os_poller_close(poller);
        return status;
    }
    poller->polled[0].fd = poller->fds[0];
    poller->polled[0].events = POLLIN;
    poller->count = 1;
    return MTASK_OK;
}

static void mtask__os_poller_wake(const mtask__poller *poller) {
    int saved = errno;
    (void)!write(poller->fds[1], "", 1); /* a full pipe is wake enough */
    errno = saved;
}

static void mtask__os_poller_clear(mtask__poller *poller) {
    mtask__os_drain(poller->fds[0]);
}

MTASK__INLINE mtask_status mtask__os_poller_watch(mtask__poller *poller, int fd, uint32_t tag,
                                                  bool known) {
    mtask_status status = MTASK_OK;
    struct pollfd probe;
    (void)known;
    probe.fd = fd;
    probe.events = 0;
    probe.revents = 0;
    if (poll(&probe, 1, 0) < 0)
        return errno == EINTR ? mtask__os_poller_watch(poller, fd, tag, known) : MTASK_SYSTEM;
    if ((probe.revents & POLLNVAL) != 0) {
        errno = EBADF;
        return MTASK_SYSTEM;
    }
    status = mtask__os_poller_grow(poller, fd);
    if (status == MTASK_OK)
        poller->known[fd].tag = tag;
    return status;
}

MTASK__INLINE void mtask__os_poller_want(mtask__poller *poller, int fd, unsigned events) {
    mtask__watched *watched = &poller->known[fd];
    struct pollfd *polled = &poller->polled[watched->place];
    if (events == 0 && watched->place == 0)
        return;
    if (events == 0) { /* the last takes its place */
        *polled = poller->polled[--poller->count];
        poller->known[polled->fd].place = watched->place;
        watched->place = 0;
        return;
    }
    if (watched->place == 0) {
        watched->place = (uint32_t)poller->count++;
        polled = &poller->polled[watched->place];
        polled->fd = fd;
    }
    polled->events = (short)(((events & MTASK__POLL_READ) != 0 ? POLLIN : 0) |
                             ((events & MTASK__POLL_WRITE) != 0 ? POLLOUT : 0));
    polled->revents = 0;
}

static unsigned mtask__os_poller_events(short events) {
    unsigned told = (events & POLLIN) != 0 ? MTASK__POLL_READ : 0;
    if ((events & POLLOUT) != 0)
        told |= MTASK__POLL_WRITE;
    if ((events & (POLLERR | POLLHUP | POLLNVAL)) != 0)
        told |= MTASK__POLL_READ | MTASK__POLL_WRITE;
    return told | MTASK__POLL_ODD; /* it tells again as long as there is something */
}

static mtask_status mtask__os_poller_wait(mtask__poller *poller, int64_t deadline) {
    struct timespec span = mtask__os_span(deadline);
    int saved = errno;
    int count = ppoll(poller->polled, (nfds_t)poller->count,
                      deadline == MTASK_FOREVER ? NULL : &span, NULL);
    if (count < 0 && errno != EINTR)
        return MTASK_SYSTEM;
    if (count > 0 && poller->polled[0].revents != 0)
        mtask__os_drain(poller->fds[0]);
    for (size_t i = poller->count; count > 0 && --i > 0;) { /* who is told may leave `polled` */
        struct pollfd polled = poller->polled[i];
        if (polled.revents != 0)
            mtask__poller_tell(poller, polled.fd, poller->known[polled.fd].tag,
                               mtask__os_poller_events(polled.revents));
    }
    errno = saved;
    return MTASK_OK;
}

static mtask_status mtask__os_poller_fd(mtask__poller *poller, int *fd) {
    *fd = poller->fds[0];
    return MTASK_OK;
}

static void mtask__os_poller_alarm(mtask__poller *poller, int64_t deadline) {
    (void)poller, (void)deadline; /* the host asks mtask_loop_next */
}
#  endif
# endif

/* ---- >>linux-poller: epoll, an eventfd by which it is woken, a timerfd for hosts ---- */

# if !defined(MTASK_CORO_NO_LOOP) && defined(__linux__) && !defined(MTASK_NO_THREADS)
#  if MTASK__LOOP_EPOLL
#   include <sys/epoll.h>
#   include <sys/eventfd.h>
#   include <sys/syscall.h>
#   include <sys/timerfd.h>

#   define MTASK__EPOLL_MOST 256 /* events at a time */

/* Has epoll tell of a descriptor of the loop's own, with itself as data: the tag is 0. */
static bool mtask__os_poller_add(const mtask__poller *poller, int fd) {
    struct epoll_event event;
    memset(&event, 0, sizeof event);
    event.events = EPOLLIN;
    event.data.u64 = (uint32_t)fd;
    return fd >= 0 && epoll_ctl(poller->fds[0], EPOLL_CTL_ADD, fd, &event) == 0;
}

static void mtask__os_poller_close(mtask__poller *poller) {
    int saved = errno;
    for (int i = 0; i < 3; i++)
        if (poller->fds[i] >= 0)
            (void)close(poller->fds[i]);
    errno = saved;
}

/* A pipe that does not block, and that children do not inherit. */
MTASK__INLINE bool mtask__os_pipe(int ends[2]) {
    if (pipe2(ends, O_NONBLOCK | O_CLOEXEC) == 0)
        return true;
    ends[0] = ends[1] = -1;
    return false;
}

/* fds: epoll, eventfd, timerfd (once a host asks). */
static mtask_status mtask__os_poller_open(mtask__poller *poller) {
    memset(poller, 0, sizeof *poller);
    poller->fds[2] = -1;
    poller->fds[1] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    poller->fds[0] = epoll_create1(EPOLL_CLOEXEC);
    if (poller->fds[0] >= 0 && mtask__os_poller_add(poller, poller->fds[1]))
        return MTASK_OK;
    mtask__os_poller_close(poller);
    return MTASK_SYSTEM;
}

static void mtask__os_poller_wake(const mtask__poller *poller) {
    const uint64_t one = 1;
    int saved = errno;
    (void)!write(poller->fds[1], &one, sizeof one); /* one that is full is wake enough */
    errno = saved;
}

static void mtask__os_poller_clear(mtask__poller *poller) {
    mtask__os_drain(poller->fds[1]);
}

/* Milliseconds until then, rounded up: a loop that wakes too early has nothing to do but to sleep
   again. */
static int mtask__os_millis(int64_t deadline) {
    int64_t left;
    if (deadline == MTASK_FOREVER || deadline == 0)
        return deadline == 0 ? 0 : -1;
    left = mtask_until(deadline);
    return left / MTASK_MS(1) >= INT_MAX ? INT_MAX : (int)((left + MTASK_MS(1) - 1) / MTASK_MS(1));
}

/* epoll_wait with a deadline of nanoseconds, where there is one. */
static int mtask__os_epoll(int fd, struct epoll_event *events, int n, int64_t deadline) {
#   ifdef SYS_epoll_pwait2
    static mtask_word missing; /* 1: this system does not know it */
    /* ThreadSanitizer holds signals back in calls that it does not know. */
    if (!MTASK__TSAN && deadline != MTASK_FOREVER && deadline != 0 &&
        mtask__load(&missing, RELAXED) == 0) {
        struct timespec left = mtask__os_span(deadline);
        int64_t span[2]; /* as the system sees it, also where time_t has 32 bits */
        int done;
        span[0] = left.tv_sec;
        span[1] = left.tv_nsec;
        done = (int)syscall(SYS_epoll_pwait2, fd, events, n, span, NULL, (size_t)8);
        if (done >= 0 || (errno != ENOSYS && errno != EPERM))
            return done;
        mtask__store(&missing, 1, RELAXED);
    }
#   endif
    return epoll_wait(fd, events, n, mtask__os_millis(deadline));
}

/* Edges: the loop is told once of each, and looks itself how much there is. */
MTASK__INLINE mtask_status mtask__os_poller_watch(mtask__poller *poller, int fd, uint32_t tag,
                                                  bool known) {
    struct epoll_event event;
    int done;
    memset(&event, 0, sizeof event);
    event.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLPRI | EPOLLET;
    event.data.u64 = (uint32_t)fd | (uint64_t)tag << 32;
    done = epoll_ctl(poller->fds[0], known ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd, &event);
    if (done != 0 && !known && errno == EEXIST) /* the same file came back under its old number */
        done = epoll_ctl(poller->fds[0], EPOLL_CTL_MOD, fd, &event);
    if (done == 0)
        return MTASK_OK;
    if (known && errno == ENOENT)
        return MTASK_NOT_FOUND;
    if (errno == EPERM)
        return MTASK_UNSUPPORTED;
    return errno == ENOMEM ? MTASK_NOMEM : MTASK_SYSTEM;
}

MTASK__INLINE void mtask__os_poller_want(mtask__poller *poller, int fd, unsigned events) {
    (void)poller, (void)fd, (void)events; /* it tells of all */
}

static unsigned mtask__os_poller_events(uint32_t events) {
    unsigned told = (events & (EPOLLIN | EPOLLRDHUP)) != 0 ? MTASK__POLL_READ : 0;
    if ((events & EPOLLOUT) != 0)
        told |= MTASK__POLL_WRITE;
    if ((events & (EPOLLERR | EPOLLHUP)) != 0) /* they may come alone */
        told |= MTASK__POLL_READ | MTASK__POLL_WRITE;
    if ((events & (EPOLLERR | EPOLLHUP | EPOLLRDHUP | EPOLLPRI)) != 0)
        told |= MTASK__POLL_ODD;
    return told;
}

static mtask_status mtask__os_poller_wait(mtask__poller *poller, int64_t deadline) {
    struct epoll_event events[MTASK__EPOLL_MOST];
    int saved = errno;
    int count = mtask__os_epoll(poller->fds[0], events, MTASK__EPOLL_MOST, deadline);
    if (count < 0 && errno != EINTR)
        return MTASK_SYSTEM;
    for (int i = 0; i < count; i++) {
        int fd = (int)(uint32_t)events[i].data.u64;
        uint32_t tag = (uint32_t)(events[i].data.u64 >> 32);
        if (tag == 0)
            mtask__os_drain(fd);
        else
            mtask__poller_tell(poller, fd, tag, mtask__os_poller_events(events[i].events));
    }
    errno = saved;
    return MTASK_OK;
}

static mtask_status mtask__os_poller_fd(mtask__poller *poller, int *fd) {
    *fd = poller->fds[0];
    if (poller->fds[2] >= 0)
        return MTASK_OK;
    poller->fds[2] = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    if (mtask__os_poller_add(poller, poller->fds[2]))
        return MTASK_OK;
    if (poller->fds[2] >= 0)
        (void)close(poller->fds[2]);
    poller->fds[2] = -1;
    return MTASK_SYSTEM;
}

static void mtask__os_poller_alarm(mtask__poller *poller, int64_t deadline) {
    struct itimerspec at;
    int saved = errno;
    memset(&at, 0, sizeof at);
    if (deadline != MTASK_FOREVER) { /* zero would mean: never */
        int64_t time = deadline > 0 ? deadline : 1;
        at.it_value.tv_sec = (time_t)(time / MTASK_SEC(1));
        at.it_value.tv_nsec = (long)(time % MTASK_SEC(1));
    }
    (void)timerfd_settime(poller->fds[2], TFD_TIMER_ABSTIME, &at, NULL);
    errno = saved;
}
#  endif
# endif

/* ---- >>linux-shared: one thread that hears what other processes do ---- */

# if !defined(MTASK_CORO_NO_LOOP) && defined(__linux__) && !defined(MTASK_FORCE_POSIX) &&          \
     !defined(MTASK_PLATFORM_CUSTOM) && !defined(MTASK_NO_THREADS)
#  include <sys/syscall.h>
#  include <unistd.h>

/* Why no wake is lost. The thread waits by futex_waitv, which compares each word with what its
   waiter saw, so it returns at once if one has changed. A wake that reaches the thread instead of
   somebody else is passed on: it wakes all who wait on that word, parked here or asleep anywhere,
   and each of them looks for itself. And whoever waits between processes looks again every 100 ms. */

#  define MTASK__WAITV      449 /* the number of futex_waitv, the same on all CPUs */
#  define MTASK__WAITV_MOST 128
#  define MTASK__WAITV_32   2 /* a word of 32 bits, shared */

typedef struct mtask__waitv {
    uint64_t value;
    uint64_t address;
    uint32_t flags;
    uint32_t zero;
} mtask__waitv;

typedef struct mtask__watch_state {
    mtask_mutex lock;  /* guards the rest */
    mtask_word change; /* counted up when the list has changed: the thread looks again */
    mtask_word nonce;  /* of the process whose thread it is; 0: none */
    mtask__vigil *first;
} mtask__watch_state;

#  define mtask__watch MTASK__VERSIONED(mtask__watch)
MTASK__ONE mtask__watch_state mtask__watch;
MTASK__MERGED(mtask__watch)

static void mtask__watch_set(mtask__waitv *entry, const mtask_word *word, mtask_word value) {
    entry->value = value;
    entry->address = (uint64_t)(uintptr_t)word;
    entry->flags = MTASK__WAITV_32;
    entry->zero = 0;
}

/* Lists the words to wait on now; returns how many. */
static unsigned mtask__watch_list(mtask__waitv *entries) {
    unsigned n = 1;
    mtask__lock(&mtask__watch.lock);
    mtask__watch_set(&entries[0], &mtask__watch.change,
                     mtask__load(&mtask__watch.change, RELAXED)); /* changes under the lock */
    for (mtask__vigil *vigil = mtask__watch.first; vigil != NULL && n < MTASK__WAITV_MOST;
         vigil = vigil->next)
        if (!vigil->over)
            mtask__watch_set(&entries[n++], vigil->waiter->word, vigil->waiter->expected);
    mtask__unlock(&mtask__watch.lock);
    return n;
}

/* A word that has changed, or was woken; NULL: no more. It is not watched any longer. */
static mtask_word *mtask__watch_find(const mtask_word *woken) {
    mtask_word *found = NULL;
    mtask__lock(&mtask__watch.lock);
    for (mtask__vigil *vigil = mtask__watch.first; vigil != NULL; vigil = vigil->next) {
        mtask_word *word = (mtask_word *)(uintptr_t)vigil->waiter->word;
        if (vigil->over || (word != woken && found != NULL && word != found))
            continue;
        if (word == woken || word == found ||
            mtask__load(word, RELAXED) != vigil->waiter->expected) { /* a hint */
            vigil->over = true;
            found = word;
        }
    }
    mtask__unlock(&mtask__watch.lock);
    return found;
}

static void *mtask__watch_run(void *arg) {
    mtask__waitv entries[MTASK__WAITV_MOST];
    (void)arg;
    for (;;) {
        unsigned n = mtask__watch_list(entries);
        long woken = syscall(MTASK__WAITV, entries, n, 0, NULL, 0);
        mtask_word *word = NULL;
        if (woken > 0 && woken < (long)n)
            word = (mtask_word *)(uintptr_t)entries[woken].address;
        if (word != NULL)
            (void)mtask__wake(word, INT_MAX, MTASK_SHARED); /* also if its waiter is gone */
        while ((word = mtask__watch_find(word)) != NULL)
            (void)mtask__wake(word, INT_MAX, MTASK_SHARED);
    }
    return NULL;
}

/* Starts the thread, unless it runs. Under the lock. */
static mtask_status mtask__watch_start(void) {
    mtask_thread_desc desc;
    mtask_status status;
    if (mtask__watch.nonce == mtask__nonce())
        return MTASK_OK;
    if (syscall(MTASK__WAITV, NULL, 0, 0, NULL, 0) == -1 && errno == ENOSYS)
        return MTASK_UNSUPPORTED;
    memset(&desc, 0, sizeof desc);
    desc.fn = mtask__watch_run;
    desc.name = "mtask-watch";
    desc.daemon = true;
    mtask__watch.first = NULL; /* after a fork: those of the parent */
    status = mtask_thread_start_ex(NULL, &desc);
    if (status == MTASK_OK)
        mtask__watch.nonce = mtask__nonce();
    return status;
}

static mtask_status mtask__os_vigil_begin(mtask__vigil *vigil, mtask__waiter *waiter) {
    mtask_status status;
    int saved = errno;
    vigil->waiter = waiter;
    vigil->over = false;
    vigil->prev = NULL;
    mtask__lock(&mtask__watch.lock);
    status = mtask__watch_start();
    if (status == MTASK_OK) {
        vigil->next = mtask__watch.first;
        if (vigil->next != NULL)
            vigil->next->prev = vigil;
        mtask__watch.first = vigil;
        mtask__add(&mtask__watch.change, 1, RELAXED); /* the system compares it */
    }
    mtask__unlock(&mtask__watch.lock);
    if (status == MTASK_OK) { /* it sleeps where mtask does not count */
        (void)syscall(SYS_futex, &mtask__watch.change, 1 /* FUTEX_WAKE */, 1, NULL, NULL, 0);
        errno = saved;
    }
    return status;
}

static void mtask__os_vigil_end(mtask__vigil *vigil) {
    mtask__lock(&mtask__watch.lock);
    if (vigil->prev != NULL)
        vigil->prev->next = vigil->next;
    else
        mtask__watch.first = vigil->next;
    if (vigil->next != NULL)
        vigil->next->prev = vigil->prev;
    mtask__unlock(&mtask__watch.lock);
}
# endif

/* ---- >>posix-shared: nothing hears them ---- */

# if !defined(MTASK_CORO_NO_LOOP) && (!defined(__linux__) || defined(MTASK_FORCE_POSIX) ||         \
                                      defined(MTASK_PLATFORM_CUSTOM) || defined(MTASK_NO_THREADS))
static mtask_status mtask__os_vigil_begin(mtask__vigil *vigil, mtask__waiter *waiter) {
    (void)vigil, (void)waiter;
    return MTASK_UNSUPPORTED;
}

static void mtask__os_vigil_end(mtask__vigil *vigil) {
    (void)vigil;
}
# endif

# ifdef __cplusplus
} /* extern "C" */
# endif

#endif /* MTASK_CORO_IMPLEMENTATION */
