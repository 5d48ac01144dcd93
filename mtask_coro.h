/* mtask_coro.h 0.4.0 - coroutines, generators and event loops for C

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
       otherwise (a read, a long computation) keeps the whole loop waiting: give such work to a
       thread or a pool and wait for its future.
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
     coroutine by longjmp or by a C++ exception is not possible; catch them inside. Hardware shadow
     stacks (x86 CET SHSTK): mtask_coro_create answers MTASK_UNSUPPORTED while they are in force.

   CONTENTS: grep for the tag.
     >>coro  >>stacks  >>loop  >>cancel  >>taskgroup  >>coro-local  >>host  >>dump  >>context
     implementation: >>stack-pool  >>census  >>timers  >>run  >>task-end  >>wait-hook  and the same
     again
     platforms: >>context-x86_64 (and the other CPUs), >>context-ucontext, >>posix-stacks,
     >>posix-poller, >>linux-poller, >>linux-shared

   OPTIONS (define them before the include, the same in every file)
     MTASK_CORO_STACK        bytes of a stack by default (default: 262144)
     MTASK_CORO_NO_LOOP      coroutines alone, without loops
     MTASK_CORO_UCONTEXT     switch by makecontext, setjmp and longjmp instead of assembly
     MTASK_CORO_NO_FPU       do not keep the rounding and exception modes of floating point apart
     MTASK_CORO_CHECK        look after each switch whether the stack overflowed: MTASK_OVERFLOW
     MTASK_CORO_CENSUS       count how much stack is used, by the places that create coroutines
     MTASK_LOOP_POLL         wait for descriptors by poll instead of epoll
     and those of mtask.h. MTASK_CORO_IMPLEMENTATION instead of MTASK_IMPLEMENTATION implements this
     header alone, in a file other than the one that implements mtask.h.

   LICENCE: MIT or public domain, at your choice; see the end of mtask.h. */

#include "mtask.h"

#ifndef MTASK_CORO_H
# define MTASK_CORO_H

# ifndef MTASK_CORO_STACK
#  define MTASK_CORO_STACK 262144
# endif
# ifndef MTASK_CORO_CHECK
#  define MTASK_CORO_CHECK 0
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
                          of two (default: MTASK_CORO_STACK) */
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
   too small), MTASK_NOMEM, MTASK_UNSUPPORTED (hardware shadow stacks; or no stack was given, and the
   system supplies none). Does not block. */
MTASK_API mtask_status mtask_coro_create(mtask_coro **coro, mtask_fn fn, void *arg);

/* The same, as the description says. */
MTASK_API mtask_status mtask_coro_create_ex(mtask_coro **coro, const mtask_coro_desc *desc);

/* Runs it until it yields or ends. `in` is what its pending yield receives (the first time: nobody);
   *out (NULL allowed) becomes what it yields or returns. MTASK_OK: it has yielded. MTASK_DONE: it
   has returned. MTASK_FAILED: it returned by mtask_fail; mtask_failure and mtask_coro_outcome say
   why; *out is NULL. MTASK_CLOSED: it had ended before. MTASK_INVALID: it is running, or waits for
   one that it has resumed; *out is NULL then. MTASK_OVERFLOW (MTASK_CORO_CHECK): it has left the bounds of its stack,
   and must not be resumed. */
MTASK__INLINE mtask_status mtask_coro_resume(mtask_coro *coro, void *in, void **out);

/* Hands `out` to the one who resumed the calling coroutine, and waits to be resumed; *in (NULL
   allowed) becomes what that brings, NULL unless MTASK_OK. MTASK_OK. MTASK_CANCELED: the coroutine is
   being closed: clean up and return (from now on each yield answers this at once). MTASK_INVALID: not
   in a coroutine. */
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

/* Counts them. Does not block for long. */
MTASK_API mtask_coro_stack_info mtask_coro_stacks(void);

/* Bytes of stack that are left to the caller, above the guard: of its coroutine or task; SIZE_MAX on
   a thread's own stack. */
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
       answers MTASK_DEADLOCK, and so does mtask_loop_run, whose outcome's text says who waits on
       what (default: the loop sleeps until it is woken). */
    bool no_external_wakers;
    /* Called on the loop's thread when that has been found, before the waits end: mtask_loop_dump
       shows all (default: none). Must not wait. */
    void (*on_deadlock)(mtask_loop *loop, void *ctx);
    void *ctx; /* for on_deadlock */
} mtask_loop_desc;

/* Runs fn(arg) as a task of a new loop of the calling thread, and returns when it has ended; tasks
   that are left then are cancelled and waited for. `outcome` (NULL allowed) says how fn ended.
   MTASK_OK; MTASK_FAILED: fn failed. MTASK_DEADLOCK: see mtask_loop_desc. MTASK_INVALID: no fn, or
   this thread runs a loop already. MTASK_NOMEM, MTASK_SYSTEM, MTASK_UNSUPPORTED: it could not begin.
   MTASK_BROKEN: in the child of a fork. */
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

/* Starts fn(arg) as a task of the calling thread's loop; it runs when its turn comes. `future` (NULL:
   detached) receives a reference on its result. mtask_future_cancel cancels the task: one that has
   not begun never runs; one that has is told by its waits, and ends when it returns. MTASK_INVALID:
   no fn, or this thread runs no loop. MTASK_NOMEM. MTASK_CLOSED: the loop is ending. MTASK_BROKEN: in
   the child of a fork. MTASK_UNSUPPORTED as mtask_coro_create. Does not wait. */
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
   not called any more. MTASK_OK; MTASK_INVALID (no fn). */
MTASK_API mtask_status mtask_loop_post(mtask_loop *loop, mtask_loop_call *call);

/* ---- >>cancel: cancellation, time limits ---- */

/* Whether the calling task has been cancelled, or a limit that it has set has passed. */
MTASK_API bool mtask_canceled(void);

/* From here to the matching end, waits of the calling task are not cancelled: for clean-up. They
   nest. No effect outside of a loop. */
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
    bool canceled; /* it has been reached, or was cancelled by hand */
    bool told;     /* a wait has ended because of it */
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
   says how it ended. MTASK_TIMEOUT: the limit has cut a wait short; otherwise MTASK_OK, MTASK_FAILED,
   or as mtask_limit_begin. */
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
   MTASK_CANCELED) cancels the other ones, and the waits of the owner. MTASK_INVALID: not in a task of
   a loop. */
MTASK_API mtask_status mtask_taskgroup_begin(mtask_taskgroup *group);

/* Starts a task in the group, from its owner or from a task of it; as mtask_go. MTASK_CANCELED: the
   group is cancelled. */
MTASK_API mtask_status mtask_taskgroup_go(mtask_taskgroup *group, mtask_fn fn, void *arg,
                                          mtask_future **future);

/* Cancels all its tasks, and the waits of its owner up to the end of the group; from any task of that
   loop. */
MTASK_API void mtask_taskgroup_cancel(mtask_taskgroup *group);

/* How many of its tasks have not ended. */
MTASK_API size_t mtask_taskgroup_pending(const mtask_taskgroup *group);

/* Ends the group: waits until all its tasks have ended, always; if the owner is cancelled while it
   waits, it cancels them. MTASK_OK: none failed. MTASK_FAILED: `outcome` (NULL allowed) tells of the
   first that did. MTASK_CANCELED: the group or its owner was cancelled. MTASK_INVALID: it is not the
   innermost group or limit of the caller. */
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

/* Sets the calling task's value; the old one is the caller's to free. MTASK_NOMEM, MTASK_INVALID (not
   initialised). */
MTASK_API mtask_status mtask_coro_local_set(mtask_coro_local *local, void *value);

/* ---- >>host: a loop inside another event loop ---- */

/* Makes a loop that the calling thread runs by mtask_loop_step. Destroy it. As mtask_loop_run_ex. */
MTASK_API mtask_status mtask_loop_create(mtask_loop **loop, const mtask_loop_desc *desc);

/* Runs what is ready, and then, if nothing was, waits up to `timeout` for something that is, and runs
   that. Not in a task. MTASK_OK: some tasks are left. MTASK_DONE: none is. MTASK_TIMEOUT: nothing was
   ready. MTASK_DEADLOCK as mtask_loop_run. MTASK_INVALID: negative, another thread's loop, called in
   a task. MTASK_SYSTEM. MTASK_BROKEN: in the child of a fork. */
MTASK_API mtask_status mtask_loop_step(mtask_loop *loop, int64_t timeout);

/* A descriptor that is readable while mtask_loop_step has something to do, timers included: put it
   into the host's own poll set, and call mtask_loop_step(loop, MTASK_NOWAIT) then. With MTASK_LOOP_POLL
   (and MTASK_FORCE_POSIX) it does not tell of timers: see mtask_loop_next. It belongs to the loop. */
MTASK_API mtask_status mtask_loop_fd(mtask_loop *loop, int *fd);

/* When mtask_loop_step next has something to do by itself, as a deadline: 0 if now, MTASK_FOREVER if
   only something from outside can bring it. */
MTASK_API int64_t mtask_loop_next(const mtask_loop *loop);

/* How many tasks have not ended. */
MTASK_API size_t mtask_loop_pending(const mtask_loop *loop);

/* Cancels all tasks of the calling thread's loop. */
MTASK_API void mtask_loop_cancel(mtask_loop *loop);

/* Cancels what is left, runs until all of it has ended, and frees the loop. NULL is allowed. From the
   thread that created it, not in a task. MTASK_INVALID, MTASK_DEADLOCK (found on the way; the loop is
   freed). */
MTASK_API mtask_status mtask_loop_destroy(mtask_loop *loop);

/* ---- >>dump: what a loop is doing ---- */

/* A task of a loop, as seen now. */
typedef struct mtask_task_info {
    uint64_t id;            /* as mtask_task_id there */
    const char *name;       /* lives as long as its maker keeps it */
    const char *state;      /* "running", "ready", "waiting", "sleeping" */
    const mtask_word *word; /* on which it waits; NULL if it does not */
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
#   define MTASK__CORO_BUILD mtask_coro_0_4_0_built_with_a_sanitizer
#  elif defined(MTASK_CORO_UCONTEXT)
#   define MTASK__CORO_BUILD mtask_coro_0_4_0_built_with_MTASK_CORO_UCONTEXT
#  else
#   define MTASK__CORO_BUILD mtask_coro_0_4_0_built_as_usual
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

/* The coroutine that runs on this thread. Initial-exec: so its address is never computed, and cannot
   be remembered across a switch. */
# define mtask__coro_here MTASK__VERSIONED(mtask__coro_here)
# if MTASK__CORO_INLINE && !defined(MTASK_NO_THREADS)
MTASK__ONE_HERE __thread mtask_coro *mtask__coro_here __attribute__((tls_model("initial-exec")));
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
#  ifdef MTASK_CORO_NO_FPU
#   define MTASK__CORO_FPU
#  else /* first what takes longest: reading MXCSR. The flags of what happened before (its lower six
           bits) are nobody's. */
#   define MTASK__CORO_FPU                                                                         \
    "stmxcsr 32(%%rdi)\n\t"                                                                        \
    "fnstcw 36(%%rdi)\n\t"                                                                         \
    "ldmxcsr 32(%%rsi)\n\t"                                                                        \
    "movzwl 36(%%rdi), %%r8d\n\t"                                                                  \
    "cmpw 36(%%rsi), %%r8w\n\t"                                                                    \
    "je 2f\n\t"                                                                                    \
    "fldcw 36(%%rsi)\n"                                                                            \
    "2:\n\t"
#  endif
#  ifdef __AVX512F__
#   define MTASK__CORO_AVX512                                                                      \
    , "xmm16", "xmm17", "xmm18", "xmm19", "xmm20", "xmm21", "xmm22", "xmm23", "xmm24", "xmm25",    \
        "xmm26", "xmm27", "xmm28", "xmm29", "xmm30", "xmm31", "k1", "k2", "k3", "k4", "k5", "k6",  \
        "k7"
#  else
#   define MTASK__CORO_AVX512
#  endif
/* A jump, not a return: the CPU would predict that the wrong way each time. The compiler keeps what
   it needs in the stack, since nothing else survives; rbp and rbx it may not let go of. Nothing is
   pushed: below the stack pointer lies the red zone. */
MTASK__INLINE void *mtask__context_swap(mtask__context *from, mtask__context *to, void *note) {
    __asm__ volatile(MTASK__CORO_FPU "leaq 1f(%%rip), %%r8\n\t"
                                     "movq %%r8, (%%rdi)\n\t"
                                     "movq %%rsp, 8(%%rdi)\n\t"
                                     "movq %%rbp, 16(%%rdi)\n\t"
                                     "movq %%rbx, 24(%%rdi)\n\t"
                                     "movq 8(%%rsi), %%rsp\n\t"
                                     "movq 16(%%rsi), %%rbp\n\t"
                                     "movq 24(%%rsi), %%rbx\n\t"
                                     "jmpq *(%%rsi)\n"
                                     "1:\n\t" MTASK__CORO_LANDING
                     : "+D"(from), "+S"(to), "+a"(note)
                     :
                     : "rcx", "rdx", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "xmm0",
                       "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9",
                       "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15", "st", "st(1)", "st(2)",
                       "st(3)", "st(4)", "st(5)", "st(6)", "st(7)", "memory",
                       "cc" MTASK__CORO_AVX512);
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

MTASK__INLINE mtask_status mtask_coro_resume(mtask_coro *coro, void *in, void **out) {
    mtask_coro *from;
    if (MTASK__UNLIKELY(coro->state > MTASK_CORO_SUSPENDED))
        return mtask__coro_refuse(coro, out);
    coro->resumer = mtask__coro_get();
    coro->value = in;
    coro->state = MTASK_CORO_RUNNING;
    mtask__coro_set(coro);
    from = (mtask_coro *)mtask__context_switch(&coro->back, &coro->context, NULL);
    if (out != NULL)
        *out = from->value;
    return mtask__coro_overflowed(from) ? MTASK_OVERFLOW : from->result;
}

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
} mtask__coro_thread;

/* What the process has of coroutines. */
typedef struct mtask__coros_state {
    mtask_mutex lock;                                /* guards what follows */
    bool ready;                                      /* forks have been seen to, and `threads` */
    mtask_local threads;                             /* has a thread's cache flushed at its end */
    struct mtask__slab *slabs[MTASK__STACK_CLASSES]; /* those that have something to give */
    size_t empty;                                    /* slabs of which nothing is in use */
    mtask_coro_stack_info info;                      /* `free` counts those in slabs */
    struct mtask__census *census;
} mtask__coros_state;

# define mtask__coros    MTASK__VERSIONED(mtask__coros)
# define mtask__coro_own MTASK__VERSIONED(mtask__coro_own)
MTASK__ONE mtask__coros_state mtask__coros;
MTASK__ONE __thread mtask__coro_thread mtask__coro_own;
MTASK__MERGED(mtask__coros)
MTASK__MERGED(mtask__coro_own)
# if MTASK__CORO_INLINE && !defined(MTASK_NO_THREADS) && !defined(MTASK_STATIC)
MTASK__ONE __thread mtask_coro *mtask__coro_here __attribute__((tls_model("initial-exec")));
MTASK__MERGED(mtask__coro_here)
# endif

/* What the calling thread has of its own. Not inlined: the address of a thread-local must not be
   remembered across a switch. */
static __attribute__((noinline)) mtask__coro_thread *mtask__coro_me(void) {
    return &mtask__coro_own;
}

# if !MTASK__CORO_INLINE || defined(MTASK_NO_THREADS)
MTASK_API __attribute__((noinline)) mtask_coro *mtask__coro_get(void) {
    return mtask__coro_own.coro;
}

MTASK_API __attribute__((noinline)) void mtask__coro_set(mtask_coro *coro) {
    mtask__coro_own.coro = coro;
}
# endif

static void mtask__stacks_flush(void *own);

static void mtask__coros_fork_prepare(void) {
    mtask__lock(&mtask__coros.lock);
}

static void mtask__coros_fork_parent(void) {
    mtask__unlock(&mtask__coros.lock);
}

static void mtask__coros_fork_child(void) {
    mtask__store(&mtask__coros.lock.word, 0, RELAXED); /* there is one thread: pairs with none */
# ifndef MTASK_CORO_NO_LOOP
    mtask__coro_me()->loop = NULL;
# endif
}

/* Before the first use: sees to forks, and to the ends of threads. If it cannot see to these, stacks
   are not kept by threads. */
static void mtask__coros_init(void) {
    bool first;
    mtask__lock(&mtask__coros.lock);
    first = !mtask__coros.ready;
    if (first) {
        mtask__coros.ready = true;
        (void)mtask_local_init(&mtask__coros.threads, mtask__stacks_flush);
    }
    mtask__unlock(&mtask__coros.lock);
    if (first)
        mtask__at_fork(mtask__coros_fork_prepare, mtask__coros_fork_parent,
                       mtask__coros_fork_child);
}

/* ---- >>stack-pool: stacks in slabs, and some kept by each thread ---- */

# define MTASK__SLAB_SIZE   ((size_t)16 << 20) /* bytes of a slab, unless one stack needs more */
# define MTASK__SLABS_EMPTY 16  /* most slabs that are kept while nothing uses them */
# define MTASK__STACK_CACHE 256 /* most free stacks that a thread keeps */
# define MTASK__STACK_ALIGN 64

/* Stacks of one class, side by side. */
typedef struct mtask__slab {
    struct mtask__slab *next; /* in a list of mtask__coros.slabs, while it has something to give */
    struct mtask__slab *prev;
    bool listed;
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

static void mtask__slab_link(mtask__slab *slab) {
    mtask__slab **list = &mtask__coros.slabs[slab->kind];
    slab->prev = NULL;
    slab->next = *list;
    if (*list != NULL)
        (*list)->prev = slab;
    *list = slab;
    slab->listed = true;
}

static void mtask__slab_unlink(mtask__slab *slab) {
    if (slab->prev != NULL)
        slab->prev->next = slab->next;
    else
        mtask__coros.slabs[slab->kind] = slab->next;
    if (slab->next != NULL)
        slab->next->prev = slab->prev;
    slab->listed = false;
}

/* A new slab of a class; smaller where there is not enough address space. Under the lock. */
static mtask__slab *mtask__slab_create(unsigned kind) {
    size_t span = (size_t)1 << kind;
    size_t size = span < MTASK__SLAB_SIZE ? MTASK__SLAB_SIZE : span;
    mtask__slab *slab = (mtask__slab *)MTASK_MALLOC(sizeof *slab);
    if (slab == NULL)
        return NULL;
    memset(slab, 0, sizeof *slab);
    for (; slab->memory == NULL && size >= span; size /= 4) {
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
    mtask__slab_link(slab);
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
        mtask__slab_unlink(slab);
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
    if (!slab->listed)
        mtask__slab_link(slab);
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

/* Room for a block of `size` bytes at the top of a stack; what is below is for function calls. */
static void *mtask__stack_place(const mtask__stack *stack, size_t size) {
    uintptr_t at = (uintptr_t)stack - stack->colour - size;
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
    if (left->low == NULL) { /* it is not a stack of ours */
        left->low = low;
        left->size = size;
    }
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
    memset(made, 0, sizeof *made);
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

# if MTASK_CORO_CENSUS
#  undef mtask_coro_create

MTASK_API mtask_status mtask__coro_create_at(mtask_coro **coro, mtask_fn fn, void *arg,
                                             const char *site) {
    mtask_coro_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.fn = fn;
    desc.arg = arg;
    desc.site = site;
    return mtask_coro_create_ex(coro, &desc);
}
# endif

MTASK_API mtask_status mtask_coro_create(mtask_coro **coro, mtask_fn fn, void *arg) {
    mtask_coro_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.fn = fn;
    desc.arg = arg;
    return mtask_coro_create_ex(coro, &desc);
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
    if (coro == NULL)
        return MTASK_OK;
    if (coro->state == MTASK_CORO_SUSPENDED || coro->state == MTASK_CORO_RUNNING)
        return MTASK_INVALID;
    mtask__context_close(&coro->context, coro->stack);
    if (MTASK_CORO_CENSUS && coro->failure != NULL)
        memset(coro->failure, 0, sizeof *coro->failure);
    if (MTASK_CORO_CENSUS)
        mtask__census_note(coro->stack, coro->site, coro->name);
    mtask__stack_give(coro->stack);
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

/* ---- >>loop: (to come) ---- */
static const mtask__stack *mtask__stack_here(void) {
    mtask_coro *coro = mtask__coro_get();
    return coro != NULL ? coro->stack : NULL;
}

/* ---- >>context-x86_64 ---- */

# if MTASK__CORO_X86_64

static void mtask__context_prepare(mtask__context *context, void *top, mtask__entry_fn *entry) {
    void **at = (void **)((uintptr_t)top / 16 * 16 - 8); /* as after a call: */
    *at = NULL;                                          /* from nowhere */
    context->words[0] = (void *)(uintptr_t)entry;
    context->words[1] = at;
    context->words[2] = context->words[3] = NULL;
    __asm__ volatile("stmxcsr %0\n\tfnstcw %1" : "=m"(context->mxcsr), "=m"(context->x87));
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

/* The frame, of words: with VFP d8 ... d15 (16 words); FPSCR or nothing; r4 ... r11; return address.
   Of Thumb-1, which cannot push r8: r8 ... r11, nothing, r4 ... r7, return address. The uppermost
   five bits of FPSCR and 0x9f are flags of what happened, which are nobody's. */
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

/* ---- >>context-ucontext: made by makecontext, switched by setjmp and longjmp ---- */

# if !MTASK__CORO_X86_64 && !MTASK__CORO_NATIVE
#  if defined(__linux__) && !defined(__GLIBC__)
#   error "mtask: this C library has no makecontext: do without MTASK_CORO_UCONTEXT."
#  endif
#  include <setjmp.h>
#  include <ucontext.h>

/* A context that has begun is a jmp_buf on its own stack (words[0]); one that has not is a
   ucontext_t at the top of its stack (words[1]). swapcontext would make a system call for the signal
   mask, each time. */

/* What a context's `note` and predecessor pass through: makecontext only passes numbers. */
typedef struct mtask__passage {
    mtask__context *from;
    mtask__context *to;
    void *note;
    mtask__entry_fn *entry;
} mtask__passage;

#  define mtask__passage_here MTASK__VERSIONED(mtask__passage_here)
MTASK__ONE __thread mtask__passage mtask__passage_here;
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

/* The functions themselves: with _FORTIFY_SOURCE, longjmp would stop the program because it leads to
   a stack that is none of the callers'. */
#  ifdef __GLIBC__
void mtask__longjmp(struct __jmp_buf_tag *buffer, int value) __asm__("_longjmp")
    __attribute__((noreturn));
#  else
#   define mtask__longjmp longjmp
#  endif

#  if MTASK__TSAN
/* ThreadSanitizer does not allow to jump between stacks. */
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
    if (_setjmp(here) == 0) {
        if (to->words[1] != NULL)
            (void)setcontext((ucontext_t *)to->words[1]);
        mtask__longjmp(*(jmp_buf *)to->words[0], 1);
    }
    return mtask__passage_me()->note;
}
#  endif
# endif

/* ---- >>posix-stacks ---- */

# if defined(__unix__) && !defined(MTASK_PLATFORM_CUSTOM) && !defined(MTASK_NO_THREADS)
#  include <sys/mman.h>
#  include <unistd.h>
#  ifdef __has_include
#   if __has_include(<valgrind/valgrind.h>)
#    include <valgrind/valgrind.h>
#   endif
#  endif

/* Of Linux 6.13 and later: a guard that is no mapping of its own, of which a process may have only so
   many (vm.max_map_count). */
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

/* How many guards may be mappings of their own: so many that half of the mappings that a process may
   have are left to the rest of the program. Each takes two. */
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

/* Under the lock. */
static bool mtask__os_stack_guard(char *low, size_t size) {
    static size_t left;
    static bool known;
    int saved = errno;
    bool done = madvise(low, size, MTASK__GUARD_INSTALL) == 0;
    if (!done && !known) {
        left = mtask__os_guards_most();
        known = true;
    }
    if (!done && left > 0) {
        left--;
        done = mprotect(low, size, PROT_NONE) == 0;
    }
    errno = saved;
    return done;
}

static unsigned mtask__os_stack_watch(char *low, char *top) {
#  ifdef VALGRIND_STACK_REGISTER
    return (unsigned)VALGRIND_STACK_REGISTER(low, top - 1);
#  else
    (void)low, (void)top;
    return 0;
#  endif
}

static void mtask__os_stack_unwatch(unsigned watch) {
#  ifdef VALGRIND_STACK_DEREGISTER
    VALGRIND_STACK_DEREGISTER(watch);
#  else
    (void)watch;
#  endif
}
# endif

/* ---- >>no-stacks: no system that supplies them ---- */

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
# endif

# ifdef __cplusplus
} /* extern "C" */
# endif

#endif /* MTASK_CORO_IMPLEMENTATION */
