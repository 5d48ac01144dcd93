/* test_mtask_wait.c - the one wait: words, wakes, and tasks parked by an event loop

   The real event loop is another header's. The one below is small, but it keeps to the contract of
   >>siblings: coroutines with stacks of their own take turns on one thread, and when one waits, it
   is parked and the thread goes on with the others. So tasks that are parked and threads asleep in
   the kernel wait for the same words, and whatever blocks can be tried with both. */
#include "testing_threads.h"

#include <errno.h>
#include <limits.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <ucontext.h>

#if TESTING_ASAN
# include <sanitizer/common_interface_defs.h>
#endif
#if TESTING_TSAN
# include <sanitizer/tsan_interface.h>
#endif

/* ThreadSanitizer would otherwise end a child of a threaded process that starts a thread. */
const char *__tsan_default_options(void);
const char *__tsan_default_options(void) {
    return "die_after_fork=0";
}

/* For the timed forms of locks: without a timeout they are no cancellation points. */
#define LONG MTASK_SEC(100000)

/* Lets others run, while polling for the `turn`th time. */
static void relax(long turn) {
    if (turn < 100)
        sched_yield();
    else
        testing_pause(1);
}

/* Returns when the word holds `value`. */
static void await_word(const mtask_word *word, mtask_word value) {
    for (long turn = 0; mtask_word_load(word) != value; turn++)
        relax(turn);
}

static mtask_status wait_word(mtask_word *word, int64_t timeout, int flags) {
    return mtask__wait(word, 0, timeout == MTASK_NOWAIT ? 0 : mtask_deadline(timeout), flags);
}

/* ---- fibers: stacks to run on, and what the sanitizers want to know of them ---- */

#define STACK_SIZE ((size_t)((TESTING_ASAN || TESTING_TSAN) ? 256 : 64) << 10)

typedef struct fiber {
    ucontext_t context;
    const void *bottom; /* of the stack */
    size_t size;
    void *fake_stack; /* ASan's */
    void *tsan;
} fiber;

/* Makes the calling thread's own stack a fiber. */
static void fiber_adopt(fiber *self) {
    memset(self, 0, sizeof *self);
#if TESTING_TSAN
    self->tsan = __tsan_get_current_fiber();
#endif
}

static void fiber_make(fiber *self, void (*entry)(void)) {
    void *stack = malloc(STACK_SIZE);
    testing_check(stack != NULL);
    memset(self, 0, sizeof *self);
    testing_check(getcontext(&self->context) == 0);
    self->context.uc_stack.ss_sp = stack;
    self->context.uc_stack.ss_size = STACK_SIZE;
    self->bottom = stack;
    self->size = STACK_SIZE;
    makecontext(&self->context, entry, 0);
#if TESTING_TSAN
    self->tsan = __tsan_create_fiber(0);
#endif
}

static void fiber_free(fiber *self) {
#if TESTING_TSAN
    __tsan_destroy_fiber(self->tsan);
#endif
    free(self->context.uc_stack.ss_sp);
}

/* The first thing that runs on a stack after a switch from `last`, whose place it learns. */
static void fiber_arrived(fiber *self, fiber *last) {
#if TESTING_ASAN
    __sanitizer_finish_switch_fiber(self->fake_stack, &last->bottom, &last->size);
#else
    (void)self;
    (void)last;
#endif
}

/* Runs `to` until it switches back; if `ends`, it never will. */
static void fiber_switch(fiber *self, fiber *to, bool ends) {
#if TESTING_ASAN
    __sanitizer_start_switch_fiber(ends ? NULL : &self->fake_stack, to->bottom, to->size);
#else
    (void)ends;
#endif
#if TESTING_TSAN
    __tsan_switch_to_fiber(to->tsan, 0);
#endif
    (void)swapcontext(&self->context, &to->context);
    fiber_arrived(self, to);
}

/* ---- the event loop ---- */

struct loop;

typedef struct coro {
    mtask__parker parker; /* first: the table knows only this */
    mtask__task task;
    fiber fiber;
    struct loop *loop;
    struct coro *next;       /* of the loop's coroutines */
    struct coro *next_ready; /* guarded by the loop's lock, as are */
    mtask_status result;     /* how its wait ended, */
    bool posted;             /* and whether by a waker */
    mtask__waiter *waiter;   /* the wait it is in, or NULL; only for the loop's thread, as are */
    int64_t deadline;        /* of the wait, */
    bool taken;              /* and whether a waker was found to have the waiter */
    mtask_word canceled;     /* 1: it is to be cancelled; stays until coro_forgive */
    mtask_word whims;        /* so many waits are to end for no reason */
    mtask_word parks;        /* how often it was parked */
    mtask_word finished;
    void (*fn)(struct coro *self);
    void *arg;
    int index;
    mtask_status status; /* for the test: read it after the loop's end, as */
    long number;         /* this one */
} coro;

typedef struct loop {
    pthread_mutex_t lock;
    pthread_cond_t news; /* for the loop's thread, when nobody is ready */
    coro *ready;         /* guarded by the lock: first in, first out */
    coro **ready_end;
    bool nudged;       /* guarded by the lock: look who is to be cancelled */
    mtask_word pins;   /* posts that are under way */
    mtask_word parked; /* how many are parked, and not ready to go on */
    mtask_word posts;  /* how many were woken so far */
    mtask__parker refuse;
    mtask__task task; /* what runs on the loop's own stack */
    fiber own;
    coro *coros;
    coro **coros_end;
    int count;
    int alive;
    pthread_t thread;
} loop;

static coro *running_coro(void) {
    return (coro *)(void *)((char *)mtask__task_current() - offsetof(coro, task));
}

/* With the lock held. */
static void loop_push(loop *self, coro *ready) {
    ready->next_ready = NULL;
    *self->ready_end = ready;
    self->ready_end = &ready->next_ready;
    (void)pthread_cond_signal(&self->news);
}

static coro *loop_pop(loop *self) {
    coro *ready;
    (void)pthread_mutex_lock(&self->lock);
    ready = self->ready;
    if (ready != NULL) {
        self->ready = ready->next_ready;
        if (self->ready == NULL)
            self->ready_end = &self->ready;
    }
    (void)pthread_mutex_unlock(&self->lock);
    return ready;
}

/* With the lock held: the coroutine's wait has ended. */
static void coro_ready(coro *self, mtask_status result) {
    self->result = result;
    mtask_word_add(&self->loop->parked, (mtask_word)-1);
    loop_push(self->loop, self);
}

static void coro_pin(mtask__parker *parker) {
    mtask_word_add(&((coro *)parker)->loop->pins, 1);
}

/* The loop may end as soon as its coroutine is ready, but it stays until the unpin. */
static void coro_post(mtask__parker *parker, mtask__waiter *waiter) {
    coro *self = (coro *)parker;
    loop *loop = self->loop;
    (void)pthread_mutex_lock(&loop->lock);
    testing_check(!self->posted && waiter->parker == parker);
    testing_check(mtask_word_load(&loop->pins) > 0);
    self->posted = true;
    mtask_word_add(&loop->posts, 1);
    coro_ready(self, MTASK_OK);
    (void)pthread_mutex_unlock(&loop->lock);
    mtask_word_add(&loop->pins, (mtask_word)-1);
}

static mtask_status coro_park(mtask__parker *parker, mtask__waiter *waiter, int64_t deadline) {
    coro *self = (coro *)parker;
    int saved = errno; /* each coroutine has its own */
    mtask_status result;
    testing_check(mtask__task_current() == &self->task && !self->canceled + 1);
    self->waiter = waiter;
    self->deadline = deadline;
    self->taken = false;
    mtask_word_add(&self->parks, 1);
    mtask_word_add(&self->loop->parked, 1);
    fiber_switch(&self->fiber, &self->loop->own, false);
    self->waiter = NULL;
    result = self->result;
    testing_check(!self->posted || result == MTASK_OK);
    self->posted = false;
    errno = saved;
    return result;
}

/* Lets the loop's other coroutines run. */
static void coro_yield(coro *self) {
    (void)pthread_mutex_lock(&self->loop->lock);
    loop_push(self->loop, self);
    (void)pthread_mutex_unlock(&self->loop->lock);
    fiber_switch(&self->fiber, &self->loop->own, false);
}

/* Has the coroutine's waits end with MTASK_CANCELED from now on. Any thread may ask for it. */
static void coro_cancel(coro *self) {
    mtask_word_store(&self->canceled, 1);
    (void)pthread_mutex_lock(&self->loop->lock);
    self->loop->nudged = true;
    (void)pthread_cond_signal(&self->loop->news);
    (void)pthread_mutex_unlock(&self->loop->lock);
}

static void coro_forgive(coro *self) {
    mtask_word_store(&self->canceled, 0);
}

/* Whether the wait of a coroutine is to end now, and how. */
static bool coro_wait_is_over(coro *self, int64_t now, mtask_status *why) {
    bool cancel =
        mtask_word_load(&self->canceled) != 0 && (self->waiter->flags & MTASK__NOCANCEL) == 0;
    *why = cancel ? MTASK_CANCELED : MTASK_TIMEOUT;
    if (cancel || self->deadline <= now)
        return true;
    *why = MTASK_OK;
    if (mtask_word_load(&self->whims) == 0)
        return false;
    mtask_word_add(&self->whims, (mtask_word)-1);
    return true;
}

/* Ends the waits whose time is up or that are cancelled; returns the next deadline. Only the loop's
   thread does this. */
static int64_t loop_end_waits(loop *self) {
    int64_t next = MTASK_FOREVER;
    int64_t now = mtask_now();
    for (coro *coro = self->coros; coro != NULL; coro = coro->next) {
        mtask_status why;
        if (coro->waiter == NULL || coro->taken)
            continue;
        if (!coro_wait_is_over(coro, now, &why)) {
            next = coro->deadline < next ? coro->deadline : next;
            continue;
        }
        coro->taken = true;
        if (!mtask__unpark(coro->waiter))
            continue; /* a waker has it: the post is on its way */
        (void)pthread_mutex_lock(&self->lock);
        coro_ready(coro, why);
        (void)pthread_mutex_unlock(&self->lock);
    }
    return next;
}

/* Sleeps until somebody is ready, or is to be cancelled, or `deadline`. */
static void loop_idle(loop *self, int64_t deadline) {
    struct timespec until = {(time_t)(deadline / MTASK_SEC(1)), (long)(deadline % MTASK_SEC(1))};
    int error = 0;
    (void)pthread_mutex_lock(&self->lock);
    while (self->ready == NULL && !self->nudged && error == 0)
        error = deadline == MTASK_FOREVER ? pthread_cond_wait(&self->news, &self->lock)
                                          : pthread_cond_timedwait(&self->news, &self->lock, &until);
    self->nudged = false;
    (void)pthread_mutex_unlock(&self->lock);
}

static void loop_resume(loop *self, coro *next) {
    (void)mtask__task_switch(&next->task);
    fiber_switch(&self->own, &next->fiber, false);
    (void)mtask__task_switch(&self->task);
    if (mtask_word_load(&next->finished) != 0)
        self->alive--;
}

/* Runs the coroutines, on the calling thread, until all have returned and nobody pins the loop. */
static void loop_run(loop *self) {
    mtask__task *last = mtask__task_switch(&self->task);
    fiber_adopt(&self->own);
    for (unsigned turn = 1; self->alive > 0; turn++) {
        coro *next = loop_pop(self);
        if (next != NULL)
            loop_resume(self, next);
        if (next == NULL)
            loop_idle(self, loop_end_waits(self));
        else if (turn % 16 == 0)
            (void)loop_end_waits(self);
    }
    testing_check(mtask__task_switch(last) == &self->task);
    while (mtask_word_load(&self->pins) != 0)
        sched_yield();
}

/* On the loop's own stack nobody can be parked. */
static mtask_status loop_refuse(mtask__parker *parker, mtask__waiter *waiter, int64_t deadline) {
    (void)parker;
    (void)deadline;
    testing_check(mtask__unpark(waiter));
    return MTASK_DEADLOCK;
}

static loop *loop_create(void) {
    loop *self = (loop *)calloc(1, sizeof *self);
    pthread_condattr_t attr;
    testing_check(self != NULL && pthread_mutex_init(&self->lock, NULL) == 0);
    testing_check(pthread_condattr_init(&attr) == 0);
    testing_check(pthread_condattr_setclock(&attr, CLOCK_MONOTONIC) == 0);
    testing_check(pthread_cond_init(&self->news, &attr) == 0);
    (void)pthread_condattr_destroy(&attr);
    self->refuse.park = loop_refuse;
    mtask__task_init(&self->task, &self->refuse);
    self->ready_end = &self->ready;
    self->coros_end = &self->coros;
    return self;
}

static void coro_main(void) {
    coro *self = running_coro();
    fiber_arrived(&self->fiber, &self->loop->own);
    self->fn(self);
    mtask_word_store(&self->finished, 1);
    fiber_switch(&self->fiber, &self->loop->own, true);
}

/* Adds a coroutine that runs fn, before the loop runs. */
static coro *loop_add(loop *self, void (*fn)(coro *self), void *arg) {
    coro *added = (coro *)calloc(1, sizeof *added);
    testing_check(added != NULL);
    added->parker.park = coro_park;
    added->parker.pin = coro_pin;
    added->parker.post = coro_post;
    mtask__task_init(&added->task, &added->parker);
    fiber_make(&added->fiber, coro_main);
    added->loop = self;
    added->fn = fn;
    added->arg = arg;
    added->index = self->count++;
    added->status = MTASK_STATUS_COUNT;
    self->alive++;
    *self->coros_end = added;
    self->coros_end = &added->next;
    loop_push(self, added);
    return added;
}

static void loop_add_many(loop *self, int count, void (*fn)(coro *self), void *arg) {
    for (int i = 0; i < count; i++)
        (void)loop_add(self, fn, arg);
}

static void *loop_thread(void *arg) {
    loop_run((loop *)arg);
    return NULL;
}

static void loop_start(loop *self) {
    testing_check(pthread_create(&self->thread, NULL, loop_thread, self) == 0);
}

static void loop_join(loop *self) {
    testing_check(pthread_join(self->thread, NULL) == 0);
}

/* Frees all of it, at once. */
static void loop_free(loop *self) {
    coro *next;
    testing_check(self->alive == 0 && self->pins == 0 && self->parked == 0);
    for (coro *coro = self->coros; coro != NULL; coro = next) {
        next = coro->next;
        fiber_free(&coro->fiber);
        free(coro);
    }
    testing_check(pthread_cond_destroy(&self->news) == 0);
    testing_check(pthread_mutex_destroy(&self->lock) == 0);
    free(self);
}

/* Runs fn as the only coroutine of a loop on this thread; returns how often it was parked. */
static mtask_word run_coro(void (*fn)(coro *self), void *arg) {
    loop *loop = loop_create();
    mtask_word parks;
    coro *only = loop_add(loop, fn, arg);
    loop_run(loop);
    parks = only->parks;
    loop_free(loop);
    return parks;
}

/* ---- a crew: threads and coroutines that wait for the same word to be other than 0 ---- */

typedef struct crew {
    mtask_word word;
    mtask_word back; /* how many waits have returned */
    int flags;       /* of the waits */
    int odd_flags;   /* if not 0: of those whose index is odd */
    int64_t timeout;
    int log[32]; /* indices of those that returned, in that order */
    testing_crowd crowd;
    loop *loop;
    bool running;
} crew;

static mtask_status crew_wait(crew *self, int index) {
    int flags = self->odd_flags != 0 && index % 2 != 0 ? self->odd_flags : self->flags;
    mtask_status status = wait_word(&self->word, self->timeout, flags);
    self->log[mtask_word_add(&self->back, 1) % 32] = index;
    return status;
}

static void crew_thread(testing_member *self) {
    self->status = crew_wait((crew *)self->arg, self->index);
}

static void crew_coro(coro *self) {
    self->status = crew_wait((crew *)self->arg, self->index);
}

/* Returns when all that have not come back are asleep or parked. */
static void crew_await(const crew *self) {
    int back = testing_crowd_finished(&self->crowd);
    testing_crowd_await_asleep(&self->crowd, self->crowd.count - back);
    if (self->running) {
        int rest = self->loop->count - ((int)mtask_word_load(&self->back) - back);
        await_word(&self->loop->parked, (mtask_word)rest);
    }
}

static void crew_add_coros(crew *self, int count) {
    self->loop = loop_create();
    loop_add_many(self->loop, count, crew_coro, self);
    loop_start(self->loop);
    self->running = true;
    await_word(&self->loop->parked, (mtask_word)count);
}

static void crew_add_threads(crew *self, int count) {
    testing_crowd_start(&self->crowd, count, crew_thread, self);
    testing_crowd_await_asleep(&self->crowd, count);
}

/* A crew without a timeout, all waiting. */
static void crew_start(crew *self, int threads, int coros, int flags) {
    memset(self, 0, sizeof *self);
    self->timeout = MTASK_FOREVER;
    self->flags = flags;
    crew_add_coros(self, coros);
    crew_add_threads(self, threads);
}

/* Fails unless exactly `count` have come back. */
static void crew_check_back(crew *self, int count) {
    await_word(&self->back, (mtask_word)count);
    testing_pause(5); /* time for one that should not */
    ck_assert_uint_eq(mtask_word_load(&self->back), (unsigned)count);
}

/* Sends those home that still wait. */
static void crew_end(crew *self) {
    mtask_word_store(&self->word, 1);
    mtask_word_wake(&self->word, INT_MAX, self->flags & MTASK_SHARED);
    testing_crowd_join(&self->crowd);
    loop_join(self->loop);
    for (int i = 0; i < self->crowd.count; i++)
        ck_assert_status(self->crowd.members[i].status, MTASK_OK);
    for (coro *coro = self->loop->coros; coro != NULL; coro = coro->next)
        ck_assert_status(coro->status, MTASK_OK);
    loop_free(self->loop);
}

/* ---- words ---- */

START_TEST(word_atomics_do_what_they_say) {
    mtask_word word = 5;
    mtask_word expected = 4;
    ck_assert_uint_eq(mtask_word_load(&word), 5);
    mtask_word_store(&word, 6);
    ck_assert_uint_eq(mtask_word_exchange(&word, 7), 6);
    ck_assert(!mtask_word_cas(&word, &expected, 8));
    ck_assert_uint_eq(expected, 7);
    ck_assert(mtask_word_cas(&word, &expected, 8));
    ck_assert_uint_eq(expected, 7);
    ck_assert_uint_eq(mtask_word_add(&word, (mtask_word)-1), 8);
    ck_assert_uint_eq(mtask_word_add(&word, UINT32_MAX - 6), 7);
    ck_assert_uint_eq(word, 0);
}
END_TEST

static void count_up(testing_member *self) {
    mtask_word *words = (mtask_word *)self->arg;
    long rounds = testing_scale(20000);
    for (long i = 0; i < rounds; i++) {
        mtask_word seen = mtask_word_load(&words[1]);
        mtask_word_add(&words[0], 1);
        while (!mtask_word_cas(&words[1], &seen, seen + 1)) {
        }
    }
    self->number = rounds;
}

START_TEST(word_atomics_lose_nothing) {
    mtask_word words[2] = {0, 0};
    testing_crowd crowd;
    testing_crowd_start(&crowd, 4, count_up, words);
    testing_crowd_join(&crowd);
    ck_assert_uint_eq(words[0], 4 * (unsigned)crowd.members[0].number);
    ck_assert_uint_eq(words[1], words[0]);
}
END_TEST

static void wait_for_a_word_that_differs(coro *self) {
    mtask_word word = 1;
    (void)self;
    ck_assert_status(mtask_word_wait(&word, 0, MTASK_FOREVER, 0), MTASK_OK);
    ck_assert_status(mtask_word_wait(&word, 2, MTASK_SEC(100), 0), MTASK_OK);
    ck_assert_status(mtask_word_wait(&word, 0, MTASK_NOWAIT, 0), MTASK_OK);
}

START_TEST(a_wait_returns_at_once_when_the_value_differs) {
    wait_for_a_word_that_differs(NULL);
    ck_assert_uint_eq(run_coro(wait_for_a_word_that_differs, NULL), 0);
}
END_TEST

static void only_look(coro *self) {
    mtask_word word = 3;
    (void)self;
    ck_assert_status(mtask_word_wait(&word, 3, MTASK_NOWAIT, 0), MTASK_TIMEOUT);
    ck_assert_status(mtask_word_wait(&word, 3, -1, 0), MTASK_INVALID);
    ck_assert_status(mtask_word_wait(&word, 4, INT64_MIN, 0), MTASK_INVALID);
    ck_assert_int_eq(mtask_word_wake(&word, INT_MAX, 0), 0);
}

START_TEST(nowait_only_looks_and_a_negative_timeout_is_refused) {
    only_look(NULL);
    (void)run_coro(only_look, NULL);
}
END_TEST

static void time_out_often(uint64_t seed, unsigned index) {
    testing_random random = testing_random_make(seed, index);
    for (int i = 0; i < 20; i++) {
        mtask_word word = 0;
        int64_t timeout = 1 + (int64_t)testing_below(&random, i % 2 ? 5000000 : 100000);
        int64_t start = mtask_now();
        mtask_status status = mtask_word_wait(&word, 0, timeout, 0);
        int64_t took = mtask_now() - start;
        ck_assert_status(status, MTASK_TIMEOUT);
        testing_check(took >= timeout);
    }
}

static void time_out_as_thread(testing_member *self) {
    time_out_often(*(uint64_t *)self->arg, (unsigned)self->index);
}

static void time_out_as_coro(coro *self) {
    time_out_often(*(uint64_t *)self->arg, 10 + (unsigned)self->index);
}

START_TEST(a_timeout_never_comes_early) {
    uint64_t seed = testing_seed();
    testing_crowd crowd;
    loop *loop = loop_create();
    loop_add_many(loop, 4, time_out_as_coro, &seed);
    testing_crowd_start(&crowd, 3, time_out_as_thread, &seed);
    loop_run(loop);
    testing_crowd_join(&crowd);
    loop_free(loop);
}
END_TEST

START_TEST(a_timeout_too_far_for_the_clock_never_comes) {
    crew crew;
    memset(&crew, 0, sizeof crew);
    crew.timeout = MTASK_FOREVER - 1;
    crew_add_coros(&crew, 1);
    crew_add_threads(&crew, 1);
    crew_check_back(&crew, 0);
    crew_end(&crew);
}
END_TEST

/* ---- wakes ---- */

static void wake_in_steps(int threads, int coros) {
    crew crew;
    crew_start(&crew, threads, coros, 0);
    ck_assert_int_eq(mtask_word_wake(&crew.word, 0, 0), 0);
    ck_assert_int_eq(mtask_word_wake(&crew.word, -1, 0), 0);
    crew_check_back(&crew, 0);
    ck_assert_int_eq(mtask_word_wake(&crew.word, 1, 0), 1);
    crew_check_back(&crew, 1);
    ck_assert_int_eq(mtask_word_wake(&crew.word, 3, 0), 3);
    crew_check_back(&crew, 4);
    ck_assert_int_eq(mtask_word_wake(&crew.word, INT_MAX, 0), threads + coros - 4);
    crew_check_back(&crew, threads + coros);
    ck_assert_int_eq(mtask_word_wake(&crew.word, INT_MAX, 0), 0);
    ck_assert_uint_eq(crew.loop->posts, (unsigned)coros);
    crew_end(&crew);
}

START_TEST(a_wake_wakes_exactly_so_many_threads) {
    wake_in_steps(6, 0);
}
END_TEST

START_TEST(a_wake_wakes_exactly_so_many_parked_tasks) {
    wake_in_steps(0, 6);
}
END_TEST

START_TEST(a_wake_wakes_exactly_so_many_of_both) {
    wake_in_steps(3, 3);
    wake_in_steps(1, 5);
    wake_in_steps(5, 1);
}
END_TEST

START_TEST(parked_tasks_go_on_in_the_order_they_came) {
    crew crew;
    crew_start(&crew, 0, 12, 0);
    for (int i = 0; i < 6; i++) {
        ck_assert_int_eq(mtask_word_wake(&crew.word, 1, 0), 1);
        await_word(&crew.back, (mtask_word)i + 1);
    }
    ck_assert_int_eq(mtask_word_wake(&crew.word, 4, 0), 4);
    ck_assert_int_eq(mtask_word_wake(&crew.word, INT_MAX, 0), 2);
    await_word(&crew.back, 12);
    for (int i = 0; i < 12; i++)
        ck_assert_int_eq(crew.log[i], i);
    crew_end(&crew);
}
END_TEST

#define MANY 512 /* more than the parking table has buckets */

typedef struct many {
    mtask_word words[MANY];
    mtask_word back;
} many;

static void wait_for_own_word(coro *self) {
    many *many_ = (many *)self->arg;
    self->status = mtask_word_wait(&many_->words[self->index], 0, MTASK_FOREVER, 0);
    mtask_word_add(&many_->back, 1);
}

START_TEST(a_wake_reaches_only_those_who_wait_for_its_word) {
    testing_random random = testing_random_make(testing_seed(), 0);
    many *all = (many *)calloc(1, sizeof *all);
    loop *loop = loop_create();
    int order[MANY];
    loop_add_many(loop, MANY, wait_for_own_word, all);
    loop_start(loop);
    await_word(&loop->parked, MANY);
    for (int i = 0; i < MANY; i++) {
        int j = (int)testing_below(&random, (uint64_t)i + 1);
        order[i] = order[j];
        order[j] = i;
    }
    for (int i = 0; i < MANY; i++) {
        mtask_word *word = &all->words[order[i]];
        ck_assert_int_eq(mtask_word_wake(word, INT_MAX, 0), 1);
        ck_assert_int_eq(mtask_word_wake(word, INT_MAX, 0), 0);
    }
    await_word(&all->back, MANY);
    loop_join(loop);
    for (coro *coro = loop->coros; coro != NULL; coro = coro->next)
        ck_assert_status(coro->status, MTASK_OK);
    ck_assert_uint_eq(loop->posts, MANY);
    loop_free(loop);
    free(all);
}
END_TEST

/* ---- classes ---- */

static void wake_by_class(int threads, int coros) {
    crew crew;
    int half = (threads + coros) / 2;
    memset(&crew, 0, sizeof crew);
    crew.timeout = MTASK_FOREVER;
    crew.flags = MTASK__CLASS_1;
    crew.odd_flags = MTASK__CLASS_2;
    crew_add_coros(&crew, coros);
    crew_add_threads(&crew, threads);
    ck_assert_int_eq(mtask__wake(&crew.word, 1, MTASK__CLASS_2), 1);
    crew_check_back(&crew, 1);
    ck_assert_int_eq(mtask__wake(&crew.word, INT_MAX, MTASK__CLASS_2), half - 1);
    crew_check_back(&crew, half);
    for (int i = 0; i < half; i++)
        ck_assert_int_eq(crew.log[i] % 2, 1);
    ck_assert_int_eq(mtask__wake(&crew.word, INT_MAX, MTASK__CLASS_2), 0);
    ck_assert_int_eq(mtask__wake(&crew.word, 1, MTASK__CLASSES), 1);
    ck_assert_int_eq(mtask__wake(&crew.word, INT_MAX, 0), half - 1);
    crew_end(&crew);
}

START_TEST(a_wake_of_one_class_leaves_the_other_asleep) {
    wake_by_class(6, 0);
    wake_by_class(0, 6);
    wake_by_class(4, 4);
}
END_TEST

START_TEST(waiters_without_a_class_are_woken_by_every_class) {
    crew crew;
    crew_start(&crew, 2, 2, 0);
    ck_assert_int_eq(mtask__wake(&crew.word, 1, MTASK__CLASS_1), 1);
    ck_assert_int_eq(mtask__wake(&crew.word, INT_MAX, MTASK__CLASS_2), 3);
    crew_end(&crew);
}
END_TEST

/* ---- fairness between threads and parked tasks ---- */

/* Wakes one at a time, 16 times; every 8th goes to the parked ones first, so both are reached. */
static void wake_sixteen(crew *crew) {
    for (mtask_word i = 1; i <= 16; i++) {
        ck_assert_int_eq(mtask_word_wake(&crew->word, 1, 0), 1);
        await_word(&crew->back, i);
    }
}

START_TEST(a_parked_task_gets_its_turn_among_many_threads) {
    crew crew;
    memset(&crew, 0, sizeof crew);
    crew.timeout = MTASK_FOREVER;
    crew_add_coros(&crew, 1);
    crew_add_threads(&crew, 20);
    wake_sixteen(&crew);
    ck_assert_uint_eq(crew.loop->posts, 1);
    crew_end(&crew);
}
END_TEST

START_TEST(a_thread_gets_its_turn_among_many_parked_tasks) {
    crew crew;
    memset(&crew, 0, sizeof crew);
    crew.timeout = MTASK_FOREVER;
    crew_add_threads(&crew, 1);
    crew_add_coros(&crew, 20);
    wake_sixteen(&crew);
    ck_assert_uint_eq(crew.loop->posts, 15);
    crew_end(&crew);
}
END_TEST

typedef struct queue_again {
    mtask_word word;
    mtask_word back;
    mtask_word turns[8];
} queue_again;

static void take_turns(queue_again *all, int index) {
    while (mtask_word_load(&all->word) == 0) {
        ck_assert_status(mtask_word_wait(&all->word, 0, MTASK_FOREVER, 0), MTASK_OK);
        mtask_word_add(&all->turns[index], 1);
        mtask_word_add(&all->back, 1);
    }
}

static void take_turns_as_thread(testing_member *self) {
    take_turns((queue_again *)self->arg, 4 + self->index);
}

static void take_turns_as_coro(coro *self) {
    take_turns((queue_again *)self->arg, self->index);
}

START_TEST(nobody_starves_when_all_come_back_to_wait) {
    queue_again all = {0, 0, {0}};
    testing_crowd crowd;
    loop *loop = loop_create();
    loop_add_many(loop, 4, take_turns_as_coro, &all);
    loop_start(loop);
    testing_crowd_start(&crowd, 4, take_turns_as_thread, &all);
    testing_crowd_await_asleep(&crowd, 4);
    await_word(&loop->parked, 4);
    for (mtask_word i = 1; i <= 240; i++) {
        while (mtask_word_wake(&all.word, 1, 0) == 0)
            sched_yield(); /* it may wake the same one again, who is still on the way */
        await_word(&all.back, i);
    }
    for (int i = 0; i < 8; i++)
        ck_assert_uint_ge(all.turns[i], 3);
    mtask_word_store(&all.word, 1);
    mtask_word_wake(&all.word, INT_MAX, 0);
    testing_crowd_join(&crowd);
    loop_join(loop);
    loop_free(loop);
}
END_TEST

/* ---- memory that is gone, signals, errno ---- */

START_TEST(a_wake_does_not_touch_memory_that_is_gone) {
    size_t size = 4096;
    crew crew;
    mtask_word *page = (mtask_word *)mmap(NULL, size, PROT_READ | PROT_WRITE,
                                          MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ck_assert_ptr_ne(page, MAP_FAILED);
    ck_assert_int_eq(munmap(page, size), 0);
    crew_start(&crew, 1, 8, 0); /* so that some of the buckets are looked into */
    for (size_t i = 0; i < size / sizeof *page; i++) {
        ck_assert_int_eq(mtask_word_wake(&page[i], 1, MTASK_PRIVATE), 0);
        ck_assert_int_eq(mtask_word_wake(&page[i], INT_MAX, MTASK_SHARED), 0);
    }
    crew_check_back(&crew, 0);
    crew_end(&crew);
}
END_TEST

START_TEST(a_signal_does_not_end_a_wait) {
    crew crew;
    testing_catch_signals();
    crew_start(&crew, 2, 0, 0);
    testing_interrupt(&crew.crowd.members[0]);
    testing_interrupt(&crew.crowd.members[1]);
    ck_assert_uint_eq(crew.back, 0);
    ck_assert_int_eq(mtask_word_wake(&crew.word, 2, 0), 2);
    crew_end(&crew);
}
END_TEST

static void wait_for_a_while(testing_member *self) {
    mtask_word word = 0;
    int64_t start = mtask_now();
    self->status = mtask_word_wait(&word, 0, *(int64_t *)self->arg, 0);
    self->took = mtask_now() - start;
}

START_TEST(a_deadline_holds_through_signals) {
    int64_t timeout = MTASK_MS(60);
    testing_crowd crowd;
    testing_catch_signals();
    testing_crowd_start(&crowd, 1, wait_for_a_while, &timeout);
    while (!testing_has_finished(&crowd.members[0])) {
        testing_pause(2);
        (void)pthread_kill(crowd.members[0].thread, SIGUSR1);
    }
    testing_crowd_join(&crowd);
    ck_assert_status(crowd.members[0].status, MTASK_TIMEOUT);
    ck_assert_int_ge(crowd.members[0].took, timeout);
}
END_TEST

/* Wakes whoever waits for the word, until it is 2. */
static void wake_until_two(testing_member *self) {
    mtask_word *word = (mtask_word *)self->arg;
    while (mtask_word_load(word) != 2) {
        mtask_word_wake(word, 1, 0);
        testing_pause(1);
    }
}

/* Waits and wakes in every way, expecting errno to stay. */
static void keep_errno(coro *self) {
    mtask_word word = 0;
    testing_crowd waker;
    (void)self;
    testing_crowd_start(&waker, 1, wake_until_two, &word);
    errno = 4711;
    ck_assert_status(mtask_word_wait(&word, 1, MTASK_FOREVER, 0), MTASK_OK);
    ck_assert_int_eq(errno, 4711);
    ck_assert_status(mtask_word_wait(&word, 0, MTASK_FOREVER, 0), MTASK_OK);
    ck_assert_int_eq(errno, 4711);
    while (mtask_word_wait(&word, 0, MTASK_US(1), 0) != MTASK_TIMEOUT) {
    }
    ck_assert_int_eq(errno, 4711);
    ck_assert_status(mtask_word_wait(&word, 0, -1, 0), MTASK_INVALID);
    ck_assert_int_eq(mtask_word_wake((mtask_word *)64, 1, MTASK_SHARED), 0);
    ck_assert_int_eq(errno, 4711);
    mtask_word_store(&word, 2);
    testing_crowd_join(&waker);
}

START_TEST(waits_and_wakes_keep_errno) {
    keep_errno(NULL);
    (void)run_coro(keep_errno, NULL);
}
END_TEST

/* ---- between processes ---- */

#ifdef MTASK_FORCE_POSIX

static void wait_between_processes(coro *self) {
    mtask_word word = 0;
    (void)self;
    ck_assert_status(mtask_word_wait(&word, 0, MTASK_FOREVER, MTASK_SHARED), MTASK_UNSUPPORTED);
    ck_assert_status(mtask_word_wait(&word, 1, MTASK_NOWAIT, MTASK_SHARED), MTASK_UNSUPPORTED);
    ck_assert_int_eq(mtask_word_wake(&word, 1, MTASK_SHARED), 0);
}

START_TEST(this_backend_offers_no_waits_between_processes) {
    wait_between_processes(NULL);
    ck_assert_uint_eq(run_coro(wait_between_processes, NULL), 0);
}
END_TEST

# define SHARED_TESTS this_backend_offers_no_waits_between_processes

#else

static mtask_word *shared_words(void) {
    void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    testing_check(page != MAP_FAILED);
    return (mtask_word *)page;
}

START_TEST(a_process_wakes_another_one) {
    mtask_word *word = shared_words();
    int status;
    pid_t child = fork();
    if (child == 0) {
        while (mtask_word_load(word) == 0)
            testing_check(mtask_word_wait(word, 0, MTASK_FOREVER, MTASK_SHARED) == MTASK_OK);
        _exit(0);
    }
    while (mtask_word_wake(word, INT_MAX, MTASK_SHARED) == 0) /* it may be about to look again */
        sched_yield();
    mtask_word_store(word, 1);
    mtask_word_wake(word, 1, MTASK_SHARED);
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_int_eq(status, 0);
    (void)munmap(word, 4096);
}
END_TEST

/* A process that was woken may be killed before it acts: so the others look by themselves. */
static void look_again(coro *self) {
    mtask_word word = 0;
    int64_t start = mtask_now();
    (void)self;
    ck_assert_status(mtask_word_wait(&word, 0, MTASK_MS(10), MTASK_SHARED), MTASK_TIMEOUT);
    ck_assert_int_ge(mtask_now() - start, MTASK_MS(10));
    start = mtask_now();
    ck_assert_status(mtask_word_wait(&word, 0, MTASK_FOREVER, MTASK_SHARED), MTASK_OK);
    ck_assert_int_ge(mtask_now() - start, MTASK_MS(50));
}

START_TEST(a_wait_between_processes_looks_again_by_itself) {
    look_again(NULL);
    ck_assert_uint_eq(run_coro(look_again, NULL), 2);
}
END_TEST

static void wait_for_shared_event(coro *self) {
    self->status = mtask_event_wait((mtask_event *)self->arg, MTASK_FOREVER);
}

START_TEST(a_coroutine_notices_what_another_process_did) {
    mtask_event *event = (mtask_event *)(void *)shared_words();
    loop *loop = loop_create();
    coro *coro = loop_add(loop, wait_for_shared_event, event);
    pid_t child;
    ck_assert_status(mtask_event_init(event, MTASK_SHARED), MTASK_OK);
    loop_start(loop);
    await_word(&loop->parked, 1);
    child = fork();
    if (child == 0) {
        mtask_event_set(event); /* this process cannot reach the loop of the other */
        _exit(0);
    }
    loop_join(loop);
    ck_assert_status(coro->status, MTASK_OK);
    ck_assert_int_eq(waitpid(child, NULL, 0), child);
    loop_free(loop);
    (void)munmap(event, 4096);
}
END_TEST

# define SHARED_TESTS                                                                              \
  a_process_wakes_another_one, a_wait_between_processes_looks_again_by_itself,                     \
      a_coroutine_notices_what_another_process_did

#endif

/* ---- waits that are not to park, or cannot ---- */

static void block_the_thread(coro *self) {
    mtask_word *word = (mtask_word *)self->arg;
    mtask_word own = 0;
    int64_t start = mtask_now();
    ck_assert_status(wait_word(&own, MTASK_MS(5), MTASK__NOPARK), MTASK_TIMEOUT);
    ck_assert_int_ge(mtask_now() - start, MTASK_MS(5));
    while (mtask_word_load(word) == 0)
        ck_assert_status(wait_word(word, MTASK_FOREVER, MTASK__NOPARK), MTASK_OK);
}

static void count_turns(coro *self) {
    while (self->loop->coros->finished == 0) {
        mtask_word_add((mtask_word *)self->arg, 1);
        coro_yield(self);
    }
}

START_TEST(a_wait_that_must_not_park_blocks_the_thread) {
    mtask_word word = 0;
    mtask_word turns = 0;
    loop *loop = loop_create();
    coro *blocked = loop_add(loop, block_the_thread, &word);
    (void)loop_add(loop, count_turns, &turns);
    loop_start(loop);
    while (mtask_word_wake(&word, 1, 0) == 0)
        testing_pause(1);
    ck_assert_uint_eq(mtask_word_load(&turns), 0);
    mtask_word_store(&word, 1);
    mtask_word_wake(&word, 1, 0);
    loop_join(loop);
    ck_assert_uint_eq(blocked->parks, 0);
    loop_free(loop);
}
END_TEST

static mtask_status refuse_carelessly(mtask__parker *parker, mtask__waiter *waiter,
                                      int64_t deadline) {
    (void)parker;
    (void)waiter;
    (void)deadline;
    return MTASK_DEADLOCK;
}

static mtask_status refuse_carefully(mtask__parker *parker, mtask__waiter *waiter,
                                     int64_t deadline) {
    (void)parker;
    (void)deadline;
    ck_assert(mtask__unpark(waiter));
    ck_assert(!mtask__unpark(waiter));
    return MTASK_DEADLOCK;
}

static void be_refused(mtask_status (*park)(mtask__parker *, mtask__waiter *, int64_t)) {
    mtask__parker parker = {park, NULL, NULL};
    mtask__task task;
    mtask_word word = 0;
    mtask_sem sem = {0, 0};
    mtask__task_init(&task, &parker);
    ck_assert_ptr_ne(mtask__task_switch(&task), NULL);
    ck_assert_status(mtask_word_wait(&word, 0, MTASK_FOREVER, 0), MTASK_DEADLOCK);
    ck_assert_status(mtask_sem_acquire(&sem, MTASK_FOREVER), MTASK_DEADLOCK);
    ck_assert_status(mtask_sleep(MTASK_MS(1)), MTASK_DEADLOCK);
    ck_assert_status(mtask_word_wait(&word, 1, MTASK_FOREVER, 0), MTASK_OK);
    ck_assert_int_eq(mtask_word_wake(&word, INT_MAX, 0), 0); /* it would call the NULL */
    ck_assert_int_eq(mtask_word_wake(&sem.word, INT_MAX, 0), 0);
    ck_assert_ptr_eq(mtask__task_switch(NULL), &task);
    ck_assert_status(mtask_sem_release(&sem, 1), MTASK_OK);
    ck_assert_status(mtask_sem_acquire(&sem, MTASK_NOWAIT), MTASK_OK);
}

START_TEST(a_wait_that_cannot_park_is_refused_and_leaves_nothing_behind) {
    be_refused(refuse_carelessly);
    be_refused(refuse_carefully);
}
END_TEST
