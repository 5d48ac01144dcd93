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
   one that it has resumed. MTASK_OVERFLOW (MTASK_CORO_CHECK): it has left the bounds of its stack,
   and must not be resumed. */
MTASK__INLINE mtask_status mtask_coro_resume(mtask_coro *coro, void *in, void **out);

/* Hands `out` to the one who resumed the calling coroutine, and waits to be resumed; *in (NULL
   allowed) becomes what that brings. MTASK_OK. MTASK_CANCELED: the coroutine is being closed: clean
   up and return (from now on each yield answers this at once). MTASK_INVALID: not in a coroutine. */
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

/* How this CPU switches: MTASK__CORO_INLINE: by code that the compiler puts where the switch is. */
# if defined(MTASK_CORO_UCONTEXT)
#  define MTASK__CORO_BACKEND ucontext
#  define MTASK__CORO_INLINE  0
# elif defined(__x86_64__) && defined(__LP64__)
#  define MTASK__CORO_BACKEND x86_64
#  define MTASK__CORO_INLINE  (!MTASK__CORO_WATCHED)
# else
#  define MTASK__CORO_BACKEND native
#  define MTASK__CORO_INLINE  0
# endif

typedef struct mtask__context {
    void *words[4]; /* x86-64: rip, rsp, rbp, rbx; elsewhere see the platforms */
    uint32_t mxcsr; /* the modes of floating point (x86) */
    uint32_t x87;
# if MTASK__CORO_WATCHED
    struct mtask__context *from; /* who switched to it last */
    void *frames;                /* AddressSanitizer's fake stack */
    const void *low;             /* its stack's lowest byte */
    size_t size;                 /* its stack's size */
    void *fiber;                 /* ThreadSanitizer's name for it */
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
    struct mtask_outcome *failure; /* how it failed, in its dead stack */
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
# if MTASK__CORO_INLINE
#  if defined(__CET__) && (__CET__ & 1)
#   define MTASK__CORO_LANDING "endbr64\n\t"
#  else
#   define MTASK__CORO_LANDING
#  endif
#  ifdef MTASK_CORO_NO_FPU
#   define MTASK__CORO_FPU
#  else /* the modes are loaded only where they differ, which is rare and predicted; the flags of
           what happened before (the lower six bits of MXCSR) are nobody's */
#   define MTASK__CORO_FPU                                                                         \
    "stmxcsr 32(%%rdi)\n\t"                                                                        \
    "fnstcw 36(%%rdi)\n\t"                                                                         \
    "movl 32(%%rdi), %%r8d\n\t"                                                                    \
    "movzwl 36(%%rdi), %%r9d\n\t"                                                                  \
    "movzwl 36(%%rsi), %%r10d\n\t"                                                                 \
    "xorl 32(%%rsi), %%r8d\n\t"                                                                    \
    "xorl %%r10d, %%r9d\n\t"                                                                       \
    "andl $0xffc0, %%r8d\n\t"                                                                      \
    "orl %%r9d, %%r8d\n\t"                                                                         \
    "jz 2f\n\t"                                                                                    \
    "ldmxcsr 32(%%rsi)\n\t"                                                                        \
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
MTASK__INLINE void *mtask__context_switch(mtask__context *from, mtask__context *to, void *note) {
    __asm__ volatile("leaq 1f(%%rip), %%r8\n\t"
                     "movq %%r8, (%%rdi)\n\t"
                     "movq %%rsp, 8(%%rdi)\n\t"
                     "movq %%rbp, 16(%%rdi)\n\t"
                     "movq %%rbx, 24(%%rdi)\n\t" MTASK__CORO_FPU "movq 8(%%rsi), %%rsp\n\t"
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
# else
MTASK_API void *mtask__context_switch(mtask__context *from, mtask__context *to, void *note);
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
    if (MTASK__UNLIKELY(self == NULL))
        return MTASK_INVALID;
    if (MTASK__UNLIKELY(self->closing))
        return MTASK_CANCELED;
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
