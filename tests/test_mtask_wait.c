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

typedef struct fake_fiber {
    ucontext_t context;
    const void *bottom; /* of the stack */
    size_t size;
    void *fake_stack; /* ASan's */
    void *tsan;
} fake_fiber;

/* Makes the calling thread's own stack a fiber. */
static void fiber_adopt(fake_fiber *self) {
    memset(self, 0, sizeof *self);
#if TESTING_TSAN
    self->tsan = __tsan_get_current_fiber();
#endif
}

static void fiber_make(fake_fiber *self, void (*entry)(void)) {
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

static void fiber_free(fake_fiber *self) {
#if TESTING_TSAN
    __tsan_destroy_fiber(self->tsan);
#endif
    free(self->context.uc_stack.ss_sp);
}

/* The first thing that runs on a stack after a switch from `last`, whose place it learns. */
static void fiber_arrived(fake_fiber *self, fake_fiber *last) {
#if TESTING_ASAN
    __sanitizer_finish_switch_fiber(self->fake_stack, &last->bottom, &last->size);
#else
    (void)self;
    (void)last;
#endif
}

/* Runs `to` until it switches back; if `ends`, it never will. */
static void fiber_switch(fake_fiber *self, fake_fiber *to, bool ends) {
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

struct fake_loop;

typedef struct fake_coro {
    mtask__parker parker; /* first: the table knows only this */
    mtask__task task;
    fake_fiber fiber;
    struct fake_loop *loop;
    struct fake_coro *next;       /* of the loop's coroutines */
    struct fake_coro *next_ready; /* guarded by the loop's lock, as are */
    mtask_status result;          /* how its wait ended, */
    bool posted;                  /* and whether by a waker */
    mtask__waiter *waiter; /* the wait it is in, or NULL; only for the loop's thread, as are */
    int64_t deadline;      /* of the wait, */
    bool taken;            /* and whether a waker was found to have the waiter */
    mtask_word canceled;   /* 1: it is to be cancelled; stays until coro_forgive */
    mtask_word whims;      /* so many waits are to end for no reason */
    mtask_word parks;      /* how often it was parked */
    mtask_word finished;
    void (*fn)(struct fake_coro *self);
    void *arg;
    int index;
    mtask_status status; /* for the test: read it after the loop's end, as */
    long number;         /* this one */
} fake_coro;

typedef struct fake_loop {
    pthread_mutex_t lock;
    pthread_cond_t news; /* for the loop's thread, when nobody is ready */
    fake_coro *ready;    /* guarded by the lock: first in, first out */
    fake_coro **ready_end;
    bool nudged;          /* guarded by the lock: look who is to be cancelled */
    mtask_word pins;      /* posts that are under way */
    mtask_word parked;    /* how many are parked, and not ready to go on */
    mtask_word posts;     /* how many were woken so far */
    mtask__parker refuse; /* on the loop's own stack nobody can be parked */
    mtask__task task;     /* what runs on the loop's own stack */
    fake_fiber own;
    fake_coro *coros;
    fake_coro **coros_end;
    int count;
    int alive;
    pthread_t thread;
} fake_loop;

static fake_coro *running_coro(void) {
    return (fake_coro *)(void *)((char *)mtask__task_current() - offsetof(fake_coro, task));
}

/* With the lock held. */
static void loop_push(fake_loop *self, fake_coro *ready) {
    ready->next_ready = NULL;
    *self->ready_end = ready;
    self->ready_end = &ready->next_ready;
    (void)pthread_cond_signal(&self->news);
}

static fake_coro *loop_pop(fake_loop *self) {
    fake_coro *ready;
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
static void coro_ready(fake_coro *self, mtask_status result) {
    self->result = result;
    mtask_word_add(&self->loop->parked, (mtask_word)-1);
    loop_push(self->loop, self);
}

static void coro_pin(mtask__parker *parker) {
    mtask_word_add(&((fake_coro *)parker)->loop->pins, 1);
}

/* The loop may end as soon as its coroutine is ready, but it stays until the unpin. */
static void coro_post(mtask__parker *parker, mtask__waiter *waiter) {
    fake_coro *self = (fake_coro *)parker;
    fake_loop *loop = self->loop;
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
    fake_coro *self = (fake_coro *)parker;
    int saved = errno; /* each coroutine has its own */
    mtask_status result;
    testing_check(mtask__task_current() == &self->task);
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
static void coro_yield(fake_coro *self) {
    (void)pthread_mutex_lock(&self->loop->lock);
    loop_push(self->loop, self);
    (void)pthread_mutex_unlock(&self->loop->lock);
    fiber_switch(&self->fiber, &self->loop->own, false);
}

/* Has the coroutine's waits end with MTASK_CANCELED from now on. Any thread may ask for it. */
static void coro_cancel(fake_coro *self) {
    mtask_word_store(&self->canceled, 1);
    (void)pthread_mutex_lock(&self->loop->lock);
    self->loop->nudged = true;
    (void)pthread_cond_signal(&self->loop->news);
    (void)pthread_mutex_unlock(&self->loop->lock);
}

static void coro_forgive(fake_coro *self) {
    mtask_word_store(&self->canceled, 0);
}

/* Whether the wait of a coroutine is to end now, and how. */
static bool coro_wait_is_over(fake_coro *self, int64_t now, mtask_status *why) {
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
static int64_t loop_end_waits(fake_loop *self) {
    int64_t next = MTASK_FOREVER;
    int64_t now = mtask_now();
    for (fake_coro *coro = self->coros; coro != NULL; coro = coro->next) {
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
static void loop_idle(fake_loop *self, int64_t deadline) {
    struct timespec until = {(time_t)(deadline / MTASK_SEC(1)), (long)(deadline % MTASK_SEC(1))};
    int error = 0;
    (void)pthread_mutex_lock(&self->lock);
    while (self->ready == NULL && !self->nudged && error == 0)
        error = deadline == MTASK_FOREVER
                    ? pthread_cond_wait(&self->news, &self->lock)
                    : pthread_cond_timedwait(&self->news, &self->lock, &until);
    self->nudged = false;
    (void)pthread_mutex_unlock(&self->lock);
}

static void loop_resume(fake_loop *self, fake_coro *next) {
    (void)mtask__task_switch(&next->task);
    fiber_switch(&self->own, &next->fiber, false);
    (void)mtask__task_switch(&self->task);
    if (mtask_word_load(&next->finished) != 0)
        self->alive--;
}

/* Runs the coroutines, on the calling thread, until all have returned and nobody pins the loop. */
static void loop_run(fake_loop *self) {
    mtask__task *last = mtask__task_switch(&self->task);
    fiber_adopt(&self->own);
    for (unsigned turn = 1; self->alive > 0; turn++) {
        fake_coro *next = loop_pop(self);
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

static fake_loop *loop_create(void) {
    fake_loop *self = (fake_loop *)calloc(1, sizeof *self);
    pthread_condattr_t attr;
    testing_check(self != NULL && pthread_mutex_init(&self->lock, NULL) == 0);
    testing_check(pthread_condattr_init(&attr) == 0);
    testing_check(pthread_condattr_setclock(&attr, CLOCK_MONOTONIC) == 0);
    testing_check(pthread_cond_init(&self->news, &attr) == 0);
    (void)pthread_condattr_destroy(&attr);
    mtask__task_init(&self->task, &self->refuse);
    self->ready_end = &self->ready;
    self->coros_end = &self->coros;
    return self;
}

static void coro_main(void) {
    fake_coro *self = running_coro();
    fiber_arrived(&self->fiber, &self->loop->own);
    self->fn(self);
    mtask_word_store(&self->finished, 1);
    fiber_switch(&self->fiber, &self->loop->own, true);
}

/* Adds a coroutine that runs fn, before the loop runs. */
static fake_coro *loop_add(fake_loop *self, void (*fn)(fake_coro *self), void *arg) {
    fake_coro *added = (fake_coro *)calloc(1, sizeof *added);
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

static void loop_add_many(fake_loop *self, int count, void (*fn)(fake_coro *self), void *arg) {
    for (int i = 0; i < count; i++)
        (void)loop_add(self, fn, arg);
}

static void *loop_thread(void *arg) {
    loop_run((fake_loop *)arg);
    return NULL;
}

static void loop_start(fake_loop *self) {
    testing_check(pthread_create(&self->thread, NULL, loop_thread, self) == 0);
}

static void loop_join(fake_loop *self) {
    testing_check(pthread_join(self->thread, NULL) == 0);
}

/* Frees all of it, at once. */
static void loop_free(fake_loop *self) {
    fake_coro *next;
    testing_check(self->alive == 0 && self->pins == 0 && self->parked == 0);
    for (fake_coro *coro = self->coros; coro != NULL; coro = next) {
        next = coro->next;
        fiber_free(&coro->fiber);
        free(coro);
    }
    testing_check(pthread_cond_destroy(&self->news) == 0);
    testing_check(pthread_mutex_destroy(&self->lock) == 0);
    free(self);
}

/* Runs fn as the only coroutine of a loop on this thread; returns how often it was parked. */
static mtask_word run_coro(void (*fn)(fake_coro *self), void *arg) {
    fake_loop *loop = loop_create();
    mtask_word parks;
    fake_coro *only = loop_add(loop, fn, arg);
    loop_run(loop);
    parks = only->parks;
    loop_free(loop);
    return parks;
}

/* ---- a crew: threads and coroutines that wait for the same word to be other than 0 ---- */

typedef struct word_crew {
    mtask_word word;
    mtask_word back;   /* how many waits have returned */
    mtask_word places; /* of the log, given away */
    int log[32];       /* indices of those that returned, in that order */
    int flags;         /* of the waits */
    int odd_flags;     /* if not 0: of those whose index is odd */
    int64_t timeout;
    testing_crowd crowd;
    fake_loop *loop;
} word_crew;

static mtask_status crew_wait(word_crew *self, int index) {
    int flags = self->odd_flags != 0 && index % 2 != 0 ? self->odd_flags : self->flags;
    mtask_status status = wait_word(&self->word, self->timeout, flags);
    self->log[mtask_word_add(&self->places, 1) % 32] = index;
    mtask_word_add(&self->back, 1);
    return status;
}

static void crew_thread(testing_member *self) {
    self->status = crew_wait((word_crew *)self->arg, self->index);
}

static void crew_coro(fake_coro *self) {
    self->status = crew_wait((word_crew *)self->arg, self->index);
}

static void crew_add_coros(word_crew *self, int count) {
    self->loop = loop_create();
    loop_add_many(self->loop, count, crew_coro, self);
    loop_start(self->loop);
    await_word(&self->loop->parked, (mtask_word)count);
}

static void crew_add_threads(word_crew *self, int count) {
    testing_crowd_start(&self->crowd, count, crew_thread, self);
    testing_crowd_await_asleep(&self->crowd, count);
}

/* A crew without a timeout, all waiting. */
static void crew_start(word_crew *self, int threads, int coros, int flags) {
    memset(self, 0, sizeof *self);
    self->timeout = MTASK_FOREVER;
    self->flags = flags;
    crew_add_coros(self, coros);
    crew_add_threads(self, threads);
}

/* Fails unless exactly `count` have come back. */
static void crew_check_back(word_crew *self, int count) {
    await_word(&self->back, (mtask_word)count);
    testing_pause(5); /* time for one that should not */
    ck_assert_uint_eq(mtask_word_load(&self->back), (unsigned)count);
}

/* Sends those home that still wait. */
static void crew_end(word_crew *self) {
    mtask_word_store(&self->word, 1);
    mtask_word_wake(&self->word, INT_MAX, self->flags & MTASK_SHARED);
    testing_crowd_join(&self->crowd);
    loop_join(self->loop);
    for (int i = 0; i < self->crowd.count; i++)
        ck_assert_status(self->crowd.members[i].status, MTASK_OK);
    for (fake_coro *coro = self->loop->coros; coro != NULL; coro = coro->next)
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

static void wait_for_a_word_that_differs(fake_coro *self) {
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

static void only_look(fake_coro *self) {
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

static void time_out_as_coro(fake_coro *self) {
    time_out_often(*(uint64_t *)self->arg, 10 + (unsigned)self->index);
}

START_TEST(a_timeout_never_comes_early) {
    uint64_t seed = testing_seed();
    testing_crowd crowd;
    fake_loop *loop = loop_create();
    loop_add_many(loop, 4, time_out_as_coro, &seed);
    testing_crowd_start(&crowd, 3, time_out_as_thread, &seed);
    loop_run(loop);
    testing_crowd_join(&crowd);
    loop_free(loop);
}
END_TEST

START_TEST(a_timeout_too_far_for_the_clock_never_comes) {
    word_crew crew;
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
    word_crew crew;
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
    word_crew crew;
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

typedef struct many_words {
    mtask_word words[MANY];
    mtask_word back;
} many_words;

static void wait_for_own_word(fake_coro *self) {
    many_words *many_ = (many_words *)self->arg;
    self->status = mtask_word_wait(&many_->words[self->index], 0, MTASK_FOREVER, 0);
    mtask_word_add(&many_->back, 1);
}

START_TEST(a_wake_reaches_only_those_who_wait_for_its_word) {
    testing_random random = testing_random_make(testing_seed(), 0);
    many_words *all = (many_words *)calloc(1, sizeof *all);
    fake_loop *loop = loop_create();
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
    for (fake_coro *coro = loop->coros; coro != NULL; coro = coro->next)
        ck_assert_status(coro->status, MTASK_OK);
    ck_assert_uint_eq(loop->posts, MANY);
    loop_free(loop);
    free(all);
}
END_TEST

/* ---- classes ---- */

static void wake_by_class(int threads, int coros) {
    word_crew crew;
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
    word_crew crew;
    crew_start(&crew, 2, 2, 0);
    ck_assert_int_eq(mtask__wake(&crew.word, 1, MTASK__CLASS_1), 1);
    ck_assert_int_eq(mtask__wake(&crew.word, INT_MAX, MTASK__CLASS_2), 3);
    crew_end(&crew);
}
END_TEST

/* ---- fairness between threads and parked tasks ---- */

/* Wakes one at a time, 16 times; every 8th goes to the parked ones first, so both are reached. */
static void wake_sixteen(word_crew *crew) {
    for (mtask_word i = 1; i <= 16; i++) {
        ck_assert_int_eq(mtask_word_wake(&crew->word, 1, 0), 1);
        await_word(&crew->back, i);
    }
}

START_TEST(a_parked_task_gets_its_turn_among_many_threads) {
    word_crew crew;
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
    word_crew crew;
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

static void take_turns_as_coro(fake_coro *self) {
    take_turns((queue_again *)self->arg, self->index);
}

START_TEST(nobody_starves_when_all_come_back_to_wait) {
    queue_again all = {0, 0, {0}};
    testing_crowd crowd;
    fake_loop *loop = loop_create();
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
        ck_assert_uint_ge(mtask_word_load(&all.turns[i]), 3);
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
    word_crew crew;
    mtask_word *page =
        (mtask_word *)mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
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
    word_crew crew;
    testing_catch_signals();
    crew_start(&crew, 2, 0, 0);
    testing_interrupt(&crew.crowd.members[0]);
    testing_interrupt(&crew.crowd.members[1]);
    ck_assert_uint_eq(mtask_word_load(&crew.back), 0);
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
static void keep_errno(fake_coro *self) {
    mtask_word word = 0;
    testing_crowd waker;
    (void)self;
    testing_crowd_start(&waker, 1, wake_until_two, &word);
    errno = 4711;
    ck_assert_status(mtask_word_wait(&word, 1, MTASK_FOREVER, 0), MTASK_OK);
    testing_check(errno == 4711);
    ck_assert_status(mtask_word_wait(&word, 0, MTASK_FOREVER, 0), MTASK_OK);
    testing_check(errno == 4711);
    while (mtask_word_wait(&word, 0, MTASK_US(1), 0) != MTASK_TIMEOUT) {
    }
    testing_check(errno == 4711);
    ck_assert_status(mtask_word_wait(&word, 0, -1, 0), MTASK_INVALID);
    ck_assert_int_eq(mtask_word_wake((mtask_word *)64, 1, MTASK_SHARED), 0);
    testing_check(errno == 4711);
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

static void wait_between_processes(fake_coro *self) {
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
static void look_again(fake_coro *self) {
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

static void wait_for_shared_event(fake_coro *self) {
    self->status = mtask_event_wait((mtask_event *)self->arg, MTASK_FOREVER);
}

START_TEST(a_coroutine_notices_what_another_process_did) {
    mtask_event *event = (mtask_event *)(void *)shared_words();
    fake_loop *loop = loop_create();
    fake_coro *coro = loop_add(loop, wait_for_shared_event, event);
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

static void block_the_thread(fake_coro *self) {
    mtask_word *word = (mtask_word *)self->arg;
    mtask_word own = 0;
    int64_t start = mtask_now();
    ck_assert_status(wait_word(&own, MTASK_MS(5), MTASK__NOPARK), MTASK_TIMEOUT);
    ck_assert_int_ge(mtask_now() - start, MTASK_MS(5));
    while (mtask_word_load(word) == 0)
        ck_assert_status(wait_word(word, MTASK_FOREVER, MTASK__NOPARK), MTASK_OK);
}

static void count_turns(fake_coro *self) {
    while (self->loop->coros->finished == 0) {
        mtask_word_add((mtask_word *)self->arg, 1);
        coro_yield(self);
    }
}

START_TEST(a_wait_that_must_not_park_blocks_the_thread) {
    mtask_word word = 0;
    mtask_word turns = 0;
    fake_loop *loop = loop_create();
    fake_coro *blocked = loop_add(loop, block_the_thread, &word);
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

static mtask_status refuse(mtask__parker *parker, mtask__waiter *waiter, int64_t deadline) {
    (void)parker;
    (void)deadline;
    testing_check(mtask__unpark(waiter));
    testing_check(!mtask__unpark(waiter));
    errno = ENODEV;
    return MTASK_SYSTEM;
}

/* Nothing may be left in the table, where a wake would find it and call the post that is NULL. */
static void be_refused(mtask_status (*park)(mtask__parker *, mtask__waiter *, int64_t),
                       mtask_status why) {
    mtask__parker parker = {park, NULL, NULL};
    mtask__task task;
    mtask_word word = 0;
    mtask_sem sem = {0, 0};
    mtask__task_init(&task, &parker);
    ck_assert_ptr_ne(mtask__task_switch(&task), NULL);
    ck_assert_status(mtask_word_wait(&word, 0, MTASK_FOREVER, 0), why);
    ck_assert_status(mtask_sem_acquire(&sem, MTASK_FOREVER), why);
    ck_assert_status(mtask_sleep(MTASK_MS(1)), why);
    ck_assert_status(wait_word(&word, MTASK_MS(1), MTASK__NOPARK), MTASK_TIMEOUT);
    ck_assert_int_eq(mtask_word_wake(&word, INT_MAX, 0), 0);
    ck_assert_int_eq(mtask_word_wake(&sem.word, INT_MAX, 0), 0);
    ck_assert_ptr_eq(mtask__task_switch(NULL), &task);
    ck_assert_status(mtask_sem_release(&sem, 1), MTASK_OK);
    ck_assert_status(mtask_sem_acquire(&sem, MTASK_NOWAIT), MTASK_OK);
}

START_TEST(a_wait_that_must_not_be_is_refused_and_leaves_nothing_behind) {
    be_refused(NULL, MTASK_DEADLOCK);
}
END_TEST

START_TEST(a_wait_that_its_loop_refuses_leaves_nothing_behind) {
    be_refused(refuse, MTASK_SYSTEM);
}
END_TEST

/* ---- everything that blocks, in one shape, to try all of it in the same ways ---- */

typedef struct wait_thing {
    int waiters; /* how many will wait */
    mtask_mutex mutex;
    mtask_rmutex rmutex;
    mtask_cond cond;
    mtask_sem sem;
    mtask_event event;
    mtask_event gate; /* what a helper of ours waits for */
    mtask_barrier barrier;
    mtask_rwlock rwlock;
    mtask_once_flag once;
    mtask_waitgroup group;
    mtask_future *future;
    mtask_thread thread;
    mtask_timer timer;
    mtask_shared_mutex shared;
    mtask_word running; /* the helper runs */
    int runs;
} wait_thing;

typedef struct wait_kind {
    const char *name;
    void (*hold)(wait_thing *on);    /* from now on wait blocks */
    void (*release)(wait_thing *on); /* lets all waiters go; to be called by the task that held */
    mtask_status (*wait)(wait_thing *on, int64_t timeout);
    void (*tidy)(wait_thing *on); /* NULL: nothing to tidy up */
    bool timed;                   /* wait heeds its timeout, and can be cancelled */
    bool prompt;                  /* release wakes the waiters before it returns */
} wait_kind;

static void hold_mutex(wait_thing *on) {
    ck_assert_status(mtask_mutex_lock(&on->mutex), MTASK_OK);
}

static void release_mutex(wait_thing *on) {
    ck_assert_status(mtask_mutex_unlock(&on->mutex), MTASK_OK);
}

static mtask_status wait_mutex_for(wait_thing *on, int64_t timeout) {
    mtask_status status = mtask_mutex_lock_for(&on->mutex, timeout);
    if (status == MTASK_OK)
        release_mutex(on);
    return status;
}

static mtask_status wait_mutex(wait_thing *on, int64_t timeout) {
    mtask_status status = mtask_mutex_lock(&on->mutex);
    (void)timeout;
    release_mutex(on);
    return status;
}

static void hold_rmutex(wait_thing *on) {
    ck_assert_status(mtask_rmutex_lock(&on->rmutex), MTASK_OK);
    ck_assert_status(mtask_rmutex_lock(&on->rmutex), MTASK_OK);
}

static void release_rmutex(wait_thing *on) {
    ck_assert_status(mtask_rmutex_unlock(&on->rmutex), MTASK_OK);
    ck_assert_status(mtask_rmutex_unlock(&on->rmutex), MTASK_OK);
}

static mtask_status wait_rmutex_for(wait_thing *on, int64_t timeout) {
    mtask_status status = mtask_rmutex_lock_for(&on->rmutex, timeout);
    if (status == MTASK_OK)
        ck_assert_status(mtask_rmutex_unlock(&on->rmutex), MTASK_OK);
    return status;
}

static mtask_status wait_rmutex(wait_thing *on, int64_t timeout) {
    mtask_status status = mtask_rmutex_lock(&on->rmutex);
    (void)timeout;
    ck_assert_status(mtask_rmutex_unlock(&on->rmutex), MTASK_OK);
    return status;
}

static void hold_nothing(wait_thing *on) {
    (void)on;
}

static mtask_status wait_cond(wait_thing *on, int64_t timeout) {
    mtask_status status;
    hold_mutex(on);
    status = mtask_cond_wait(&on->cond, &on->mutex, timeout);
    release_mutex(on);
    return status;
}

static mtask_status wait_cond_rmutex(wait_thing *on, int64_t timeout) {
    mtask_status status;
    hold_rmutex(on);
    status = mtask_cond_wait_rmutex(&on->cond, &on->rmutex, timeout);
    ck_assert_uint_eq(mtask_rmutex_count(&on->rmutex), 2);
    release_rmutex(on);
    return status;
}

static void release_cond(wait_thing *on) {
    ck_assert_status(mtask_cond_notify_all(&on->cond), MTASK_OK);
}

static mtask_status wait_sem(wait_thing *on, int64_t timeout) {
    return mtask_sem_acquire(&on->sem, timeout);
}

static void release_sem(wait_thing *on) {
    ck_assert_status(mtask_sem_release(&on->sem, on->waiters), MTASK_OK);
}

static mtask_status wait_event(wait_thing *on, int64_t timeout) {
    return mtask_event_wait(&on->event, timeout);
}

/* Those who waited are released even if it is cleared at once. */
static void release_event(wait_thing *on) {
    mtask_event_set(&on->event);
    mtask_event_clear(&on->event);
}

static void hold_barrier(wait_thing *on) {
    uint32_t parties = (uint32_t)on->waiters + 1;
    ck_assert_status(mtask_barrier_init(&on->barrier, parties, NULL, NULL, 0), MTASK_OK);
}

static mtask_status wait_barrier(wait_thing *on, int64_t timeout) {
    if (mtask_barrier_is_broken(&on->barrier)) /* by an earlier try that gave up */
        ck_assert_status(mtask_barrier_reset(&on->barrier), MTASK_OK);
    return mtask_barrier_wait(&on->barrier, NULL, timeout);
}

static void release_barrier(wait_thing *on) {
    ck_assert_status(mtask_barrier_wait(&on->barrier, NULL, MTASK_NOWAIT), MTASK_OK);
}

static void hold_write(wait_thing *on) {
    ck_assert_status(mtask_rwlock_lock_write(&on->rwlock), MTASK_OK);
}

static void release_write(wait_thing *on) {
    ck_assert_status(mtask_rwlock_unlock_write(&on->rwlock), MTASK_OK);
}

static mtask_status wait_read_for(wait_thing *on, int64_t timeout) {
    mtask_status status = mtask_rwlock_lock_read_for(&on->rwlock, timeout);
    if (status == MTASK_OK)
        ck_assert_status(mtask_rwlock_unlock_read(&on->rwlock), MTASK_OK);
    return status;
}

static mtask_status wait_read(wait_thing *on, int64_t timeout) {
    (void)timeout;
    return wait_read_for(on, MTASK_FOREVER);
}

static void hold_read(wait_thing *on) {
    ck_assert_status(mtask_rwlock_lock_read(&on->rwlock), MTASK_OK);
}

static void release_read(wait_thing *on) {
    ck_assert_status(mtask_rwlock_unlock_read(&on->rwlock), MTASK_OK);
}

static mtask_status wait_write_for(wait_thing *on, int64_t timeout) {
    mtask_status status = mtask_rwlock_lock_write_for(&on->rwlock, timeout);
    if (status == MTASK_OK)
        release_write(on);
    return status;
}

static mtask_status wait_write(wait_thing *on, int64_t timeout) {
    mtask_status status = mtask_rwlock_lock_write(&on->rwlock);
    (void)timeout;
    release_write(on);
    return status;
}

static void hold_group(wait_thing *on) {
    ck_assert_status(mtask_waitgroup_add(&on->group, 1), MTASK_OK);
}

static void release_group(wait_thing *on) {
    ck_assert_status(mtask_waitgroup_done(&on->group), MTASK_OK);
}

static mtask_status wait_group(wait_thing *on, int64_t timeout) {
    return mtask_waitgroup_wait(&on->group, timeout);
}

static void hold_future(wait_thing *on) {
    ck_assert_status(mtask_future_create(&on->future, NULL), MTASK_OK);
}

static void release_future(wait_thing *on) {
    ck_assert_status(mtask_future_set(on->future, on), MTASK_OK);
}

static void tidy_future(wait_thing *on) {
    mtask_future_release(on->future);
}

static mtask_status wait_get(wait_thing *on, int64_t timeout) {
    mtask_outcome outcome;
    mtask_status status = mtask_future_get(on->future, &outcome, timeout);
    testing_check(status != MTASK_OK || outcome.value == on);
    return status;
}

static mtask_status wait_listening(wait_thing *on, int64_t timeout) {
    mtask_future *twice[2];
    twice[0] = twice[1] = on->future;
    return mtask_futures_wait(twice, 2, MTASK_WAIT_ALL, timeout);
}

/* ---- of those that follow, a helper thread lets the waiters go ---- */

static void *wait_at_gate(void *arg) {
    wait_thing *on = (wait_thing *)arg;
    on->runs++;
    mtask_word_store(&on->running, 1);
    ck_assert_status(mtask_event_wait(&on->gate, MTASK_FOREVER), MTASK_OK);
    return arg;
}

static void open_gate(wait_thing *on) {
    mtask_event_set(&on->gate);
}

static void hold_thread(wait_thing *on) {
    ck_assert_status(mtask_thread_start(&on->thread, wait_at_gate, on), MTASK_OK);
    await_word(&on->running, 1);
}

static void tidy_thread(wait_thing *on) {
    ck_assert_status(mtask_thread_join(&on->thread, NULL, MTASK_FOREVER), MTASK_OK);
    ck_assert_int_eq(on->runs, 1);
}

static mtask_status wait_join(wait_thing *on, int64_t timeout) {
    return mtask_thread_join(&on->thread, NULL, timeout);
}

static mtask_status wait_join_all(wait_thing *on, int64_t timeout) {
    (void)on;
    return mtask_thread_join_all(timeout);
}

static void *run_once(void *arg) {
    wait_thing *on = (wait_thing *)arg;
    ck_assert_status(mtask_once(&on->once, wait_at_gate, on), MTASK_OK);
    return NULL;
}

static void hold_once(wait_thing *on) {
    ck_assert_status(mtask_thread_start(&on->thread, run_once, on), MTASK_OK);
    await_word(&on->running, 1);
}

static mtask_status wait_once(wait_thing *on, int64_t timeout) {
    (void)timeout;
    return mtask_once(&on->once, wait_at_gate, on);
}

static void hold_timer(wait_thing *on) {
    ck_assert_status(mtask_timer_start(&on->timer, 0, wait_at_gate, on), MTASK_OK);
    await_word(&on->running, 1);
}

static mtask_status wait_timer(wait_thing *on, int64_t timeout) {
    mtask_status status = mtask_timer_cancel(&on->timer, timeout);
    return status == MTASK_DONE ? MTASK_OK : status;
}

static void tidy_timer(wait_thing *on) {
    ck_assert_status(wait_timer(on, MTASK_FOREVER), MTASK_OK);
    ck_assert_int_eq(on->runs, 1);
}

static void hold_shared(wait_thing *on) {
    ck_assert_status(mtask_shared_mutex_init(&on->shared), MTASK_OK);
    ck_assert_status(mtask_shared_mutex_lock(&on->shared), MTASK_OK);
}

static void release_shared(wait_thing *on) {
    ck_assert_status(mtask_shared_mutex_unlock(&on->shared), MTASK_OK);
}

static mtask_status wait_shared(wait_thing *on, int64_t timeout) {
    mtask_status status = mtask_shared_mutex_lock_for(&on->shared, timeout);
    if (status == MTASK_OK)
        release_shared(on);
    return status;
}

static void tidy_shared(wait_thing *on) {
    ck_assert_status(mtask_shared_mutex_deinit(&on->shared), MTASK_OK);
}

static const wait_kind kinds[] = {
    {"mutex lock_for", hold_mutex, release_mutex, wait_mutex_for, NULL, true, true},
    {"mutex lock", hold_mutex, release_mutex, wait_mutex, NULL, false, true},
    {"rmutex lock_for", hold_rmutex, release_rmutex, wait_rmutex_for, NULL, true, true},
    {"rmutex lock", hold_rmutex, release_rmutex, wait_rmutex, NULL, false, true},
    {"cond", hold_nothing, release_cond, wait_cond, NULL, true, true},
    {"cond with rmutex", hold_nothing, release_cond, wait_cond_rmutex, NULL, true, true},
    {"semaphore", hold_nothing, release_sem, wait_sem, NULL, true, true},
    {"event", hold_nothing, release_event, wait_event, NULL, true, true},
    {"barrier", hold_barrier, release_barrier, wait_barrier, NULL, true, true},
    {"rwlock lock_read_for", hold_write, release_write, wait_read_for, NULL, true, true},
    {"rwlock lock_read", hold_write, release_write, wait_read, NULL, false, true},
    {"rwlock lock_write_for", hold_read, release_read, wait_write_for, NULL, true, true},
    {"rwlock lock_write", hold_write, release_write, wait_write, NULL, false, true},
    {"waitgroup", hold_group, release_group, wait_group, NULL, true, true},
    {"future get", hold_future, release_future, wait_get, tidy_future, true, true},
    {"futures wait", hold_future, release_future, wait_listening, tidy_future, true, true},
    {"once", hold_once, open_gate, wait_once, tidy_thread, false, false},
    {"thread join", hold_thread, open_gate, wait_join, tidy_thread, true, false},
    {"thread join_all", hold_thread, open_gate, wait_join_all, tidy_thread, true, false},
    {"timer cancel", hold_timer, open_gate, wait_timer, tidy_timer, true, false},
    {"shared mutex", hold_shared, release_shared, wait_shared, tidy_shared, true, false},
};

enum { TIMED = 1, UNTIMED = 2, DIRECTED = 4 };

static bool kind_is(const wait_kind *kind, int sort) {
    return ((sort & TIMED) != 0 && kind->timed) || ((sort & UNTIMED) != 0 && !kind->timed) ||
           ((sort & DIRECTED) != 0 && kind->timed && kind->prompt);
}

/* Calls fn for every kind of these sorts. */
static void each_kind(int sorts, void (*fn)(const wait_kind *kind)) {
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        if (kind_is(&kinds[i], sorts))
            fn(&kinds[i]);
}

/* One kind under test. */
typedef struct wait_trial {
    const wait_kind *kind;
    wait_thing *on;
    int64_t timeout;
    fake_coro *waiter;
    mtask_word phase;
} wait_trial;

static void trial_begin(wait_trial *self, const wait_kind *kind, int waiters) {
    fprintf(stderr, "%s\n", kind->name); /* tells which one it was that failed */
    memset(self, 0, sizeof *self);
    self->kind = kind;
    self->timeout = LONG;
    self->on = (wait_thing *)calloc(1, sizeof *self->on);
    testing_check(self->on != NULL);
    self->on->waiters = waiters;
}

static void trial_end(wait_trial *self) {
    if (self->kind->tidy != NULL)
        self->kind->tidy(self->on);
    free(self->on);
}

static void trial_wait(fake_coro *self) {
    const wait_trial *tried = (const wait_trial *)self->arg;
    self->status = tried->kind->wait(tried->on, tried->timeout);
}

static void trial_wait_as_thread(testing_member *self) {
    const wait_trial *tried = (const wait_trial *)self->arg;
    self->status = tried->kind->wait(tried->on, tried->timeout);
}

static void nap(fake_coro *self) {
    self->status = mtask_sleep(MTASK_MS(1));
}

/* Two coroutines wait; meanwhile a third one of their thread comes to its end. */
static void park_and_release(const wait_kind *kind) {
    wait_trial trial;
    fake_loop *loop = loop_create();
    fake_coro *third;
    trial_begin(&trial, kind, 2);
    kind->hold(trial.on);
    loop_add_many(loop, 2, trial_wait, &trial);
    third = loop_add(loop, nap, NULL);
    loop_start(loop);
    await_word(&third->finished, 1);
    await_word(&loop->parked, 2);
    kind->release(trial.on);
    loop_join(loop);
    for (fake_coro *coro = loop->coros; coro != NULL; coro = coro->next) {
        ck_assert_status(coro->status, MTASK_OK);
        ck_assert_uint_ge(coro->parks, 1);
    }
    trial_end(&trial);
    loop_free(loop);
}

START_TEST(everything_that_blocks_parks_a_coroutine) {
    each_kind(TIMED | UNTIMED, park_and_release);
}
END_TEST

static void sleep_and_measure(fake_coro *self) {
    int64_t start = mtask_now();
    (void)self;
    ck_assert_status(mtask_sleep(MTASK_MS(3)), MTASK_OK);
    ck_assert_int_ge(mtask_now() - start, MTASK_MS(3));
    ck_assert_status(mtask_sleep(-1), MTASK_INVALID);
}

START_TEST(a_sleeping_coroutine_is_parked) {
    ck_assert_uint_eq(run_coro(sleep_and_measure, NULL), 1);
}
END_TEST

/* The wait that ends a trial; the object still works. */
static void trial_last_wait(wait_trial *self) {
    mtask_word_store(&self->phase, 1);
    ck_assert_status(self->kind->wait(self->on, LONG), MTASK_OK);
}

static void trial_time_out(fake_coro *self) {
    wait_trial *tried = (wait_trial *)self->arg;
    int64_t start;
    ck_assert_status(tried->kind->wait(tried->on, MTASK_NOWAIT), MTASK_TIMEOUT);
    ck_assert_status(tried->kind->wait(tried->on, -1), MTASK_INVALID);
    start = mtask_now();
    ck_assert_status(tried->kind->wait(tried->on, MTASK_MS(3)), MTASK_TIMEOUT);
    ck_assert_int_ge(mtask_now() - start, MTASK_MS(3));
    ck_assert_uint_ge(self->parks, 1);
    trial_last_wait(tried);
}

static void trial_be_canceled(fake_coro *self) {
    wait_trial *tried = (wait_trial *)self->arg;
    ck_assert_status(tried->kind->wait(tried->on, LONG), MTASK_CANCELED);
    coro_forgive(self);
    trial_last_wait(tried);
}

static void give_up_and_wait_again(const wait_kind *kind, void (*fn)(fake_coro *self)) {
    wait_trial trial;
    fake_loop *loop = loop_create();
    trial_begin(&trial, kind, 1);
    kind->hold(trial.on);
    trial.waiter = loop_add(loop, fn, &trial);
    loop_start(loop);
    if (fn == trial_be_canceled) {
        await_word(&loop->parked, 1);
        coro_cancel(trial.waiter);
    }
    await_word(&trial.phase, 1);
    await_word(&loop->parked, 1);
    kind->release(trial.on);
    loop_join(loop);
    trial_end(&trial);
    loop_free(loop);
}

static void time_out_and_wait_again(const wait_kind *kind) {
    give_up_and_wait_again(kind, trial_time_out);
}

START_TEST(a_parked_wait_times_out_and_can_be_tried_again) {
    each_kind(TIMED, time_out_and_wait_again);
}
END_TEST

static void be_canceled_and_wait_again(const wait_kind *kind) {
    give_up_and_wait_again(kind, trial_be_canceled);
}

START_TEST(a_parked_wait_is_canceled_and_can_be_tried_again) {
    each_kind(TIMED, be_canceled_and_wait_again);
}
END_TEST

static void trial_wait_and_sleep(fake_coro *self) {
    trial_wait(self);
    ck_assert_status(mtask_sleep(MTASK_SEC(100)), MTASK_CANCELED);
}

/* The cancellation waits for the next call that is a cancellation point. */
static void cancel_in_vain(const wait_kind *kind) {
    wait_trial trial;
    fake_loop *loop = loop_create();
    trial_begin(&trial, kind, 1);
    kind->hold(trial.on);
    trial.waiter = loop_add(loop, trial_wait_and_sleep, &trial);
    loop_start(loop);
    await_word(&loop->parked, 1);
    coro_cancel(trial.waiter);
    testing_pause(3);
    ck_assert_uint_eq(mtask_word_load(&loop->parked), 1);
    ck_assert_uint_eq(mtask_word_load(&trial.waiter->parks), 1);
    kind->release(trial.on);
    loop_join(loop);
    ck_assert_status(trial.waiter->status, MTASK_OK);
    trial_end(&trial);
    loop_free(loop);
}

START_TEST(what_takes_no_timeout_is_no_cancellation_point) {
    each_kind(UNTIMED, cancel_in_vain);
}
END_TEST

/* Wakes all who wait for anything in the object, and has parked waits return for no reason. */
static void wake_for_no_reason(wait_trial *self, fake_loop *loop) {
    mtask_word *words = (mtask_word *)(void *)self->on;
    for (fake_coro *coro = loop->coros; coro != NULL; coro = coro->next) {
        mtask_word_store(&coro->whims, 3);
        (void)pthread_mutex_lock(&loop->lock);
        loop->nudged = true;
        (void)pthread_cond_signal(&loop->news);
        (void)pthread_mutex_unlock(&loop->lock);
        await_word(&coro->whims, 0);
    }
    for (size_t i = 0; i < sizeof *self->on / sizeof *words; i++)
        mtask_word_wake(&words[i], INT_MAX, 0);
}

static void wait_through_spurious_wakes(const wait_kind *kind) {
    wait_trial trial;
    testing_crowd crowd;
    fake_loop *loop = loop_create();
    trial_begin(&trial, kind, 4);
    kind->hold(trial.on);
    loop_add_many(loop, 2, trial_wait, &trial);
    loop_start(loop);
    testing_crowd_start(&crowd, 2, trial_wait_as_thread, &trial);
    await_word(&loop->parked, 2);
    testing_crowd_await_asleep(&crowd, 2);
    wake_for_no_reason(&trial, loop);
    testing_crowd_await_asleep(&crowd, 2);
    await_word(&loop->parked, 2);
    for (fake_coro *coro = loop->coros; coro != NULL; coro = coro->next)
        ck_assert_uint_eq(mtask_word_load(&coro->finished), 0);
    kind->release(trial.on);
    testing_crowd_join(&crowd);
    loop_join(loop);
    ck_assert_int_eq(testing_crowd_count(&crowd, MTASK_OK), 2);
    for (fake_coro *coro = loop->coros; coro != NULL; coro = coro->next)
        ck_assert_status(coro->status, MTASK_OK);
    trial_end(&trial);
    loop_free(loop);
}

START_TEST(nothing_is_deceived_by_a_wake_for_no_reason) {
    each_kind(TIMED | UNTIMED, wait_through_spurious_wakes);
}
END_TEST

/* ---- woken beats cancelled beats timed out: a director and a waiter on one thread ---- */

static void direct_begin(fake_coro *self, mtask_word waiters) {
    wait_trial *tried = (wait_trial *)self->arg;
    tried->kind->hold(tried->on);
    while (mtask_word_load(&self->loop->parked) != waiters)
        coro_yield(self);
}

/* Keeps the thread until the waiter's time is up. */
static void let_time_pass(const wait_trial *tried) {
    int64_t end = mtask_deadline(tried->timeout);
    while (mtask_now() < end) {
    }
}

static void wake_then_cancel(fake_coro *self) {
    wait_trial *tried = (wait_trial *)self->arg;
    direct_begin(self, 1);
    tried->kind->release(tried->on);
    coro_cancel(tried->waiter);
    (void)loop_end_waits(self->loop);
    ck_assert_status(tried->waiter->result, MTASK_OK);
}

static void cancel_then_wake(fake_coro *self) {
    wait_trial *tried = (wait_trial *)self->arg;
    direct_begin(self, 1);
    coro_cancel(tried->waiter);
    (void)loop_end_waits(self->loop);
    ck_assert_status(tried->waiter->result, MTASK_CANCELED);
    tried->kind->release(tried->on);
}

static void wake_then_time_out(fake_coro *self) {
    wait_trial *tried = (wait_trial *)self->arg;
    direct_begin(self, 1);
    let_time_pass(tried);
    tried->kind->release(tried->on);
    (void)loop_end_waits(self->loop);
    ck_assert_status(tried->waiter->result, MTASK_OK);
    mtask_word_store(&tried->waiter->canceled, 1); /* for trial_wait_and_sleep */
}

static void time_out_then_wake(fake_coro *self) {
    wait_trial *tried = (wait_trial *)self->arg;
    direct_begin(self, 1);
    let_time_pass(tried);
    (void)loop_end_waits(self->loop);
    ck_assert_status(tried->waiter->result, MTASK_TIMEOUT);
    tried->kind->release(tried->on);
    mtask_word_store(&tried->waiter->canceled, 1); /* for trial_wait_and_sleep */
}

/* In all of these the waiter has got it, and learns of the cancellation by its next call. */
static void direct(const wait_kind *kind, void (*director)(fake_coro *self), int64_t timeout) {
    wait_trial trial;
    fake_loop *loop = loop_create();
    trial_begin(&trial, kind, 1);
    trial.timeout = timeout;
    (void)loop_add(loop, director, &trial);
    trial.waiter = loop_add(loop, trial_wait_and_sleep, &trial);
    loop_run(loop);
    ck_assert_status(trial.waiter->status, MTASK_OK);
    trial_end(&trial);
    loop_free(loop);
}

static void direct_woken_and_canceled(const wait_kind *kind) {
    direct(kind, wake_then_cancel, LONG);
}

START_TEST(woken_beats_canceled) {
    each_kind(DIRECTED, direct_woken_and_canceled);
}
END_TEST

static void direct_woken_and_timed_out(const wait_kind *kind) {
    direct(kind, wake_then_time_out, MTASK_MS(2));
}

START_TEST(woken_beats_timed_out) {
    each_kind(DIRECTED, direct_woken_and_timed_out);
}
END_TEST

static void direct_giving_up(const wait_kind *kind) {
    direct(kind, cancel_then_wake, LONG);
    direct(kind, time_out_then_wake, MTASK_MS(2));
}

START_TEST(a_waiter_that_gives_up_looks_once_more) {
    each_kind(DIRECTED, direct_giving_up);
}
END_TEST

/* ---- of two waiters one is cancelled: it does not swallow what is the other's ---- */

static void notify_one(wait_thing *on) {
    ck_assert_status(mtask_cond_notify(&on->cond, 1), MTASK_OK);
}

static const wait_kind one_by_one[] = {
    {"semaphore", hold_nothing, release_sem, wait_sem, NULL, true, true},
    {"cond", hold_nothing, notify_one, wait_cond, NULL, true, true},
    {"cond with rmutex", hold_nothing, notify_one, wait_cond_rmutex, NULL, true, true},
};

enum { WAKE_FIRST, CANCEL_FIRST, CANCEL_AND_LET_RUN };

static void yield_often(fake_coro *self) {
    for (int i = 0; i < 64; i++)
        coro_yield(self);
}

/* The first waiter is cancelled, before or after one unit is given; then the second one gets its
   own, unless the first has left without. */
static void cancel_first_of_two(fake_coro *self, int order) {
    wait_trial *tried = (wait_trial *)self->arg;
    fake_coro *first = tried->waiter;
    fake_coro *second = first->next;
    direct_begin(self, 2);
    if (order == WAKE_FIRST)
        tried->kind->release(tried->on);
    coro_cancel(first);
    (void)loop_end_waits(self->loop);
    if (order == CANCEL_AND_LET_RUN)
        yield_often(self);
    if (order != WAKE_FIRST)
        tried->kind->release(tried->on);
    yield_often(self);
    ck_assert_uint_eq(first->finished, 1);
    ck_assert_status(first->status, order == CANCEL_AND_LET_RUN ? MTASK_CANCELED : MTASK_OK);
    ck_assert_uint_eq(second->finished, order == CANCEL_AND_LET_RUN);
    if (order != CANCEL_AND_LET_RUN)
        tried->kind->release(tried->on);
}

static void direct_wake_first(fake_coro *self) {
    cancel_first_of_two(self, WAKE_FIRST);
}

static void direct_cancel_first(fake_coro *self) {
    cancel_first_of_two(self, CANCEL_FIRST);
}

static void direct_cancel_and_let_run(fake_coro *self) {
    cancel_first_of_two(self, CANCEL_AND_LET_RUN);
}

static void direct_two(const wait_kind *kind, void (*director)(fake_coro *self)) {
    wait_trial trial;
    fake_loop *loop = loop_create();
    trial_begin(&trial, kind, 1);
    (void)loop_add(loop, director, &trial);
    trial.waiter = loop_add(loop, trial_wait, &trial);
    (void)loop_add(loop, trial_wait, &trial);
    loop_run(loop);
    ck_assert_status(trial.waiter->next->status, MTASK_OK);
    ck_assert_uint_eq(mtask_sem_value(&trial.on->sem), 0);
    trial_end(&trial);
    loop_free(loop);
}

START_TEST(a_canceled_waiter_does_not_swallow_a_wake) {
    for (size_t i = 0; i < sizeof one_by_one / sizeof one_by_one[0]; i++) {
        direct_two(&one_by_one[i], direct_wake_first);
        direct_two(&one_by_one[i], direct_cancel_first);
        direct_two(&one_by_one[i], direct_cancel_and_let_run);
    }
}
END_TEST

/* ---- identity is the task ---- */

typedef struct ids {
    mtask_rmutex rmutex;
    uint64_t id[2];
    mtask_word handed; /* 1: the second coroutine has tried */
} ids;

static void own_across_waits(fake_coro *self) {
    ids *all = (ids *)self->arg;
    all->id[0] = mtask_task_id();
    ck_assert_status(mtask_rmutex_lock(&all->rmutex), MTASK_OK);
    while (mtask_word_load(&all->handed) == 0)
        ck_assert_status(mtask_word_wait(&all->handed, 0, MTASK_FOREVER, 0), MTASK_OK);
    ck_assert_status(mtask_rmutex_lock(&all->rmutex), MTASK_OK);
    ck_assert_uint_eq(mtask_rmutex_count(&all->rmutex), 2);
    ck_assert_status(mtask_rmutex_unlock(&all->rmutex), MTASK_OK);
    ck_assert_status(mtask_sleep(MTASK_MS(1)), MTASK_OK);
    ck_assert_uint_eq(mtask_rmutex_count(&all->rmutex), 1);
    ck_assert_status(mtask_rmutex_unlock(&all->rmutex), MTASK_OK);
    ck_assert_uint_eq(mtask_task_id(), all->id[0]);
}

static void be_kept_out(fake_coro *self) {
    ids *all = (ids *)self->arg;
    all->id[1] = mtask_task_id();
    ck_assert_status(mtask_rmutex_lock_for(&all->rmutex, MTASK_NOWAIT), MTASK_TIMEOUT);
    ck_assert_status(mtask_rmutex_unlock(&all->rmutex), MTASK_NOT_OWNER);
    ck_assert_uint_eq(mtask_rmutex_count(&all->rmutex), 0);
    mtask_word_store(&all->handed, 1);
    ck_assert_int_eq(mtask_word_wake(&all->handed, 1, 0), 1);
    ck_assert_status(mtask_rmutex_lock(&all->rmutex), MTASK_OK);
    ck_assert_uint_eq(mtask_rmutex_count(&all->rmutex), 1);
    ck_assert_status(mtask_rmutex_unlock(&all->rmutex), MTASK_OK);
    ck_assert_uint_ge(self->parks, 1);
}

START_TEST(coroutines_of_one_thread_are_different_tasks) {
    ids all;
    fake_loop *loop = loop_create();
    memset(&all, 0, sizeof all);
    (void)loop_add(loop, own_across_waits, &all);
    (void)loop_add(loop, be_kept_out, &all);
    loop_run(loop);
    ck_assert(!mtask_rmutex_is_locked(&all.rmutex));
    ck_assert_uint_ne(all.id[0], all.id[1]);
    ck_assert_uint_ne(all.id[0], mtask_task_id());
    ck_assert_uint_ne(all.id[1], mtask_task_id());
    loop_free(loop);
}
END_TEST

/* ---- games: threads and coroutines of two loops play with words, for many rounds ----

   In each game a wake-up that is lost stops the play, and the test hangs. For the game goes on only
   when somebody takes what was put into a word; some of the players who wait there are steady: they
   wait without a timeout. The others wait for moments, are cancelled at random, and when a wait
   ends so they take its word for it that no wake-up was spent on them: they do not look again, but
   keep still until the game has gone on without them. */

#define PLAYERS      16
#define GROUPS       3
#define CLOSED       ((mtask_word)1 << 31) /* in a word: the game is over */
#define GAME_TIME_MS 1500                  /* when it is up the game ends, if it still goes on */

typedef struct word_player {
    struct word_game *game;
    mtask_word *home; /* where it waits */
    fake_coro *coro;  /* NULL: a thread */
    bool steady;
    testing_random random;
    mtask_word acts;
} word_player;

typedef struct word_game {
    void (*play)(word_player *self);
    mtask_word words[GROUPS];
    mtask_word moves;  /* how often the game has gone on */
    mtask_word inside; /* see each game */
    mtask_word tokens;
    mtask_word woken; /* what the wakes returned, added up */
    int groups;       /* how many of the words are used */
    int chain;        /* how many each one wakes; 0: only the driver wakes, and all */
    int count;
    word_player players[PLAYERS];
    testing_crowd crowd;
    fake_loop *loops[2];
    testing_random random;
    int64_t end;
} word_game;

static bool game_is_over(const word_game *self) {
    return (mtask_word_load(&self->words[0]) & CLOSED) != 0;
}

static void game_wake(word_game *self, mtask_word *word, int n) {
    mtask_word_add(&self->woken, (mtask_word)mtask_word_wake(word, n, 0));
}

/* Lets time pass, in this way or that. */
static void player_idle(word_player *self) {
    int64_t pause = (int64_t)testing_below(&self->random, 30000);
    bool sleeps = testing_below(&self->random, 4) == 0;
    if (self->coro != NULL && !sleeps)
        coro_yield(self->coro);
    else if (!sleeps)
        sched_yield();
    else if (mtask_sleep(pause) == MTASK_CANCELED)
        coro_forgive(self->coro);
}

/* Keeps still until the game has gone on from move `seen`. */
static void player_keep_still(word_player *self, mtask_word seen) {
    while (mtask_word_load(&self->game->moves) == seen && !game_is_over(self->game))
        player_idle(self);
}

/* Waits at home while the word is `value`. */
static mtask_status player_wait(word_player *self, mtask_word value) {
    int64_t patience = MTASK_FOREVER;
    mtask_status status;
    if (!self->steady)
        patience =
            (int64_t)testing_below(&self->random, 4) * (int64_t)testing_below(&self->random, 40000);
    status = mtask_word_wait(self->home, value, patience, 0);
    if (status == MTASK_CANCELED)
        coro_forgive(self->coro);
    testing_check(status == MTASK_OK ||
                  (!self->steady && (status == MTASK_TIMEOUT || status == MTASK_CANCELED)));
    return status;
}

/* Takes one of the tokens that the word counts. MTASK_CLOSED: the game is over. */
static mtask_status player_take(word_player *self) {
    for (;;) {
        mtask_word word = mtask_word_load(self->home);
        mtask_status status;
        if ((word & CLOSED) != 0)
            return MTASK_CLOSED;
        if (word > 0 && mtask_word_cas(self->home, &word, word - 1))
            return MTASK_OK;
        status = word > 0 ? MTASK_OK : player_wait(self, 0);
        if (status != MTASK_OK)
            return status;
    }
}

static void play_as_coro(fake_coro *self) {
    word_player *player = (word_player *)self->arg;
    player->coro = self;
    player->game->play(player);
}

static void play_as_thread(testing_member *self) {
    word_game *game = (word_game *)self->arg;
    game->play(&game->players[PLAYERS - 1 - self->index]);
}

static word_player *game_add(word_game *self, int index, bool steady, uint64_t seed) {
    word_player *added = &self->players[index];
    added->game = self;
    added->home = &self->words[index % self->groups];
    added->steady = steady;
    added->random = testing_random_make(seed, (unsigned)index + 1);
    self->count++;
    return added;
}

static void game_begin(word_game *self, void (*play)(word_player *self), int groups, int threads,
                       int coros) {
    uint64_t seed = testing_seed();
    memset(self, 0, sizeof *self);
    self->play = play;
    self->groups = groups;
    self->random = testing_random_make(seed, 0);
    self->end = mtask_deadline(MTASK_MS(GAME_TIME_MS));
    for (int i = 0; i < coros; i++) {
        fake_loop **loop = &self->loops[i % 2];
        if (*loop == NULL)
            *loop = loop_create();
        (void)loop_add(*loop, play_as_coro, game_add(self, i, i / 2 % 2 == 0, seed));
    }
    for (int i = 0; i < threads; i++)
        (void)game_add(self, PLAYERS - 1 - i, i % 2 == 0, seed);
    testing_check(self->count <= PLAYERS);
}

static void game_start(word_game *self, int threads) {
    for (int i = 0; i < 2; i++)
        if (self->loops[i] != NULL)
            loop_start(self->loops[i]);
    testing_crowd_start(&self->crowd, threads, play_as_thread, self);
}

/* Cancels an unsteady coroutine now and then; what the driver does while it waits. */
static void game_disturb(word_game *self) {
    fake_loop *loop = self->loops[testing_below(&self->random, 2)];
    uint64_t which = testing_below(&self->random, 8 * PLAYERS);
    sched_yield();
    if (loop == NULL)
        return;
    for (fake_coro *coro = loop->coros; coro != NULL; coro = coro->next)
        if (which-- == 0 && !((word_player *)coro->arg)->steady)
            coro_cancel(coro);
}

/* Whether the driver should go on after `rounds`. Only asked when the game has just gone on. */
static bool game_goes_on(const word_game *self, long rounds, long wanted) {
    const char *scale = getenv("MTASK_TEST_SCALE");
    bool limited = scale == NULL || atol(scale) <= 100;
    return rounds < wanted && (!limited || mtask_now() < self->end);
}

/* Sends all players home, and says what there was of it. */
static void game_end(word_game *self, const char *name) {
    mtask_word posts = 0;
    for (int i = 0; i < self->groups; i++) {
        mtask_word_add(&self->words[i], CLOSED);
        mtask_word_wake(&self->words[i], INT_MAX, 0);
    }
    testing_crowd_join(&self->crowd);
    for (int i = 0; i < 2; i++)
        if (self->loops[i] != NULL) {
            loop_join(self->loops[i]);
            posts += self->loops[i]->posts;
            loop_free(self->loops[i]);
        }
    fprintf(stderr, "%s: %u moves, %u woken, %u of them parked\n", name, self->moves, self->woken,
            posts);
}

/* ---- game 1: the players of each group pass tokens on to the other groups ---- */

static void pass_tokens(word_player *self) {
    word_game *game = self->game;
    int group = (int)(self->home - game->words);
    for (;;) {
        mtask_status status = player_take(self);
        mtask_word seen = mtask_word_load(&game->moves);
        if (status == MTASK_CLOSED)
            return;
        if (status == MTASK_OK) {
            int other = (group + 1 + (int)testing_below(&self->random, GROUPS - 1)) % GROUPS;
            testing_check(mtask_word_add(&game->inside, 1) < game->tokens);
            self->acts++;
            mtask_word_add(&game->inside, (mtask_word)-1);
            mtask_word_add(&game->moves, 1);
            mtask_word_add(&game->words[other], 1);
            game_wake(game, &game->words[other], 1);
        } else {
            player_keep_still(self, seen);
        }
    }
}

static void tokens_begin(word_game *self, int threads, int coros, mtask_word tokens) {
    game_begin(self, pass_tokens, GROUPS, threads, coros);
    self->tokens = self->words[0] = tokens;
    game_start(self, threads);
}

static void tokens_end(word_game *self) {
    mtask_word left = 0;
    game_end(self, "tokens");
    for (int i = 0; i < GROUPS; i++)
        left += self->words[i] & ~CLOSED;
    ck_assert_uint_eq(left, self->tokens); /* none lost, none doubled */
    ck_assert_uint_eq(self->inside, 0);
}

static void game_of_tokens(int threads, int coros, mtask_word tokens, long wanted) {
    word_game game;
    mtask_word rounds = 0;
    wanted = testing_scale(wanted);
    tokens_begin(&game, threads, coros, tokens);
    while (game_goes_on(&game, (long)rounds, wanted)) {
        while (mtask_word_load(&game.moves) - rounds < 16) /* hangs if a token is lost */
            game_disturb(&game);
        rounds = mtask_word_load(&game.moves);
    }
    tokens_end(&game);
}

START_TEST(a_token_passed_between_threads_and_coroutines_is_not_lost) {
    game_of_tokens(4, 8, 1, 150000);
}
END_TEST

START_TEST(a_token_passed_between_coroutines_is_not_lost) {
    game_of_tokens(0, 12, 1, 300000);
}
END_TEST

START_TEST(many_tokens_are_neither_lost_nor_doubled) {
    game_of_tokens(4, 12, 3, 300000);
}
END_TEST

/* ---- game 2: a producer feeds the players; it wakes as many as it has units for ---- */

static void eat_once_a_round(word_player *self) {
    word_game *game = self->game;
    for (;;) {
        mtask_status status = player_take(self);
        mtask_word round = mtask_word_load(&game->moves);
        if (status == MTASK_CLOSED)
            return;
        if (status == MTASK_OK) {
            self->acts++;
            mtask_word_add(&game->inside, 1); /* eaten by all */
        }
        player_keep_still(self, round);
    }
}

static uint64_t game_steady(const word_game *self) {
    uint64_t steady = 0;
    for (int i = 0; i < PLAYERS; i++)
        steady += self->players[i].steady;
    return steady;
}

static void game_of_feeding(int threads, int coros, long wanted) {
    word_game game;
    mtask_word fed = 0;
    wanted = testing_scale(wanted);
    game_begin(&game, eat_once_a_round, 1, threads, coros);
    game_start(&game, threads);
    for (long round = 0; game_goes_on(&game, round, wanted); round++) {
        int n = 1 + (int)testing_below(&game.random, game_steady(&game));
        fed += (mtask_word)n;
        mtask_word_add(&game.moves, 1);
        mtask_word_add(game.words, (mtask_word)n);
        game_wake(&game, game.words, n);
        while (mtask_word_load(&game.inside) != fed)
            game_disturb(&game);
    }
    game_end(&game, "feeding");
    ck_assert_uint_eq(game.words[0], CLOSED); /* what was produced is consumed */
    for (int i = 0; i < PLAYERS; i++)
        fed -= game.players[i].acts;
    ck_assert_uint_eq(fed, 0);
}

START_TEST(what_is_produced_is_consumed_by_threads_and_coroutines) {
    game_of_feeding(4, 8, 80000);
}
END_TEST

START_TEST(what_is_produced_is_consumed_by_coroutines) {
    game_of_feeding(0, 12, 150000);
}
END_TEST

/* ---- game 3: a bell that all must hear, each time it rings ---- */

/* Waits until the bell rings again. One that was woken in vain, because it has heard the last ring
   and waits for the next, passes the wake on as long as others have not. */
static mtask_word await_ring(word_player *self, mtask_word heard) {
    word_game *game = self->game;
    for (;;) {
        mtask_status status = player_wait(self, heard);
        mtask_word word = mtask_word_load(self->home);
        if (word != heard)
            return word;
        if (status == MTASK_OK && game->chain > 0 &&
            mtask_word_load(&game->inside) != heard * (mtask_word)game->count)
            game_wake(game, self->home, 1);
        if (status != MTASK_OK)
            player_idle(self);
    }
}

/* Hears each ring; if the driver wakes only some, each wakes as many others. */
static void hear_the_bell(word_player *self) {
    word_game *game = self->game;
    mtask_word heard = 0;
    for (;;) {
        mtask_word word = await_ring(self, heard);
        if (game->chain > 0)
            game_wake(game, self->home, game->chain);
        if ((word & CLOSED) != 0)
            return;
        testing_check(word == heard + 1);
        heard = word;
        self->acts++;
        mtask_word_add(&game->inside, 1); /* heard by all */
    }
}

static void game_of_bells(int threads, int coros, int chain, long wanted) {
    word_game game;
    mtask_word heard = 0;
    wanted = testing_scale(wanted);
    game_begin(&game, hear_the_bell, 1, threads, coros);
    game.chain = chain;
    game_start(&game, threads);
    while (game_goes_on(&game, (long)heard, wanted)) {
        heard += (mtask_word)game.count;
        mtask_word_add(game.words, 1);
        game_wake(&game, game.words, chain > 0 ? chain : INT_MAX);
        while (mtask_word_load(&game.inside) != heard)
            game_disturb(&game);
        mtask_word_add(&game.moves, 1);
    }
    game_end(&game, chain > 0 ? "chain" : "bell");
    for (int i = 0; i < PLAYERS; i++)
        heard -= game.players[i].acts;
    ck_assert_uint_eq(heard, 0);
}

START_TEST(a_wake_of_all_reaches_all) {
    game_of_bells(4, 12, 0, 300000);
}
END_TEST

START_TEST(a_chain_of_wakes_reaches_all) {
    game_of_bells(2, 6, 1, 20000);
    game_of_bells(0, 12, 2, 20000);
}
END_TEST

/* ---- a duel: the wake comes just when the waiter is about to sleep or to be parked ---- */

typedef struct word_duel {
    mtask_word word;  /* the round; the waiter waits for the next */
    mtask_word ready; /* the round that the waiter is about to wait for */
    mtask_word closed;
    uint64_t seed;
} word_duel;

static void duel_delay(uint64_t turns) {
    for (volatile uint64_t turn = turns; turn > 0; turn--) {
    }
}

static void duel_wait(word_duel *self) {
    for (mtask_word round = 0; mtask_word_load(&self->closed) == 0; round++) {
        mtask_word_store(&self->ready, round + 1);
        duel_delay(500);
        while (mtask_word_load(&self->word) == round)
            ck_assert_status(mtask_word_wait(&self->word, round, MTASK_FOREVER, 0), MTASK_OK);
    }
}

static void duel_as_thread(testing_member *self) {
    duel_wait((word_duel *)self->arg);
}

static void duel_as_coro(fake_coro *self) {
    duel_wait((word_duel *)self->arg);
}

/* Polls: quickly at first, then without using the CPU, which the other side may need to go on. */
static void duel_poll(long turn) {
    if (turn % 1000 == 999)
        testing_pause(0);
}

/* Keeps the loop's thread busy, so that it notices a post at once. */
static void keep_awake(fake_coro *self) {
    const word_duel *against = (const word_duel *)self->arg;
    mtask_word seen = 0;
    for (long turn = 0; mtask_word_load(&against->closed) == 0; turn++) {
        mtask_word ready = mtask_word_load(&against->ready);
        turn = ready == seen ? turn : 0;
        seen = ready;
        duel_poll(turn);
        coro_yield(self);
    }
}

/* The driver changes the word, and wakes, at about the time when the waiter begins to wait: it aims
   later when it finds that it came too early, and earlier when the waiter was asleep. A wake-up
   that is lost leaves the waiter asleep, and the next round never comes. */
static void duel_fight(word_duel *self, const char *name) {
    testing_random random = testing_random_make(self->seed, 0);
    int64_t end = mtask_deadline(MTASK_MS(GAME_TIME_MS));
    long wanted = testing_scale(1000000);
    uint64_t aim = 0;
    unsigned asleep = 0;
    for (mtask_word round = 1; mtask_word_load(&self->closed) == 0; round++) {
        for (long turn = 0; mtask_word_load(&self->ready) != round; turn++)
            duel_poll(turn);
        duel_delay(aim + testing_below(&random, 16));
        mtask_word_store(&self->closed, round >= wanted || mtask_now() >= end);
        mtask_word_store(&self->word, round);
        if (mtask_word_wake(&self->word, 1, 0) == 0) {
            aim += aim < 2000;
        } else {
            aim -= aim > 0;
            asleep++;
        }
    }
    fprintf(stderr, "%s: %u rounds, asleep in %u\n", name, self->word, asleep);
}

START_TEST(a_wake_is_not_lost_on_one_about_to_be_parked) {
    word_duel duel = {0, 0, 0, testing_seed()};
    fake_loop *loop = loop_create();
    (void)loop_add(loop, duel_as_coro, &duel);
    (void)loop_add(loop, keep_awake, &duel);
    loop_start(loop);
    duel_fight(&duel, "duel with a coroutine");
    loop_join(loop);
    loop_free(loop);
}
END_TEST

START_TEST(a_wake_is_not_lost_on_one_about_to_sleep) {
    word_duel duel = {0, 0, 0, testing_seed()};
    testing_crowd crowd;
    testing_crowd_start(&crowd, 1, duel_as_thread, &duel);
    duel_fight(&duel, "duel with a thread");
    testing_crowd_join(&crowd);
}
END_TEST

/* ---- a loop goes away while wakers still post to it ---- */

typedef struct letter_box {
    mtask_word *letter; /* a word that somebody waits for to be 1 */
    mtask_word closed;
} letter_box;

static void answer_letters(testing_member *self) {
    letter_box *box = &((letter_box *)self->arg)[self->index];
    while (mtask_word_load(&box->closed) == 0) {
        mtask_word *word = __atomic_exchange_n(&box->letter, NULL, __ATOMIC_SEQ_CST);
        if (word == NULL) {
            sched_yield();
            continue;
        }
        mtask_word_store(word, 1); /* from here on only the address is good */
        (void)mtask_word_wake(word, 1, 0);
        (void)mtask_word_wake(word, INT_MAX, 0);
    }
}

/* Waits for the answer. The word, the waiter, all of the loop are gone soon after. */
static void send_a_letter(fake_coro *self) {
    letter_box *box = &((letter_box *)self->arg)[self->index];
    mtask_word word = 0;
    __atomic_store_n(&box->letter, &word, __ATOMIC_SEQ_CST);
    mtask_word_store(&self->whims, self->number == 0);
    while (mtask_word_load(&word) == 0) {
        int64_t patience = self->number == 1 ? MTASK_US(30) : MTASK_FOREVER;
        mtask_status status = mtask_word_wait(&word, 0, patience, 0);
        testing_check(status == MTASK_OK || (self->number == 1 && status == MTASK_TIMEOUT));
    }
}

START_TEST(a_loop_may_end_and_be_freed_while_wakers_post_to_it) {
    testing_random random = testing_random_make(testing_seed(), 0);
    long rounds = testing_scale(50000);
    int64_t end = mtask_deadline(MTASK_MS(GAME_TIME_MS));
    letter_box boxes[2] = {{NULL, 0}, {NULL, 0}};
    testing_crowd crowd;
    mtask_word posts = 0;
    long round;
    testing_crowd_start(&crowd, 2, answer_letters, boxes);
    for (round = 0; round < rounds && mtask_now() < end; round++) {
        fake_loop *loop = loop_create();
        for (uint64_t i = 0; i < 1 + testing_below(&random, 2); i++)
            loop_add(loop, send_a_letter, boxes)->number = (long)testing_below(&random, 3);
        loop_run(loop);
        posts += loop->posts;
        loop_free(loop);
    }
    mtask_word_store(&boxes[0].closed, 1);
    mtask_word_store(&boxes[1].closed, 1);
    testing_crowd_join(&crowd);
    fprintf(stderr, "loops: %ld, posts: %u\n", round, posts);
    ck_assert_uint_gt(posts, 0);
}
END_TEST

/* ---- fork in between ---- */

static void await_child(pid_t child) {
    int status = 0;
    ck_assert_int_gt(child, 0);
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_int_eq(status, 0);
}

/* In the child: nobody waits any more, and everything works anew. */
static void use_all_in_child(word_crew *parents, word_game *game) {
    word_crew crew;
    alarm(TESTING_TSAN || TESTING_ASAN ? 100 : 20);
    ck_assert_int_eq(mtask_word_wake(&parents->word, INT_MAX, 0), 0);
    for (int i = 0; i < GROUPS; i++)
        ck_assert_int_eq(mtask_word_wake(&game->words[i], INT_MAX, 0), 0);
    if (TESTING_ASAN) /* a thread of the parent may have held the lock of its allocator */
        _exit(0);
    each_kind(DIRECTED, direct_woken_and_canceled);
    if (TESTING_TSAN) /* mistakes new threads for those of the parent, which it thinks alive */
        _exit(0);
    crew_start(&crew, 2, 2, 0);
    ck_assert_int_eq(mtask_word_wake(&crew.word, INT_MAX, 0), 4);
    crew_end(&crew);
    each_kind(TIMED | UNTIMED, park_and_release);
    _exit(0);
}

START_TEST(a_child_forked_while_others_park_and_wake_starts_afresh) {
    word_crew crew;
    word_game game;
    int forks = TESTING_TSAN || TESTING_ASAN ? 2 : 6;
    crew_start(&crew, 2, 3, 0);
    tokens_begin(&game, 2, 6, 2);
    for (int i = 0; i < forks; i++) {
        mtask_word seen = mtask_word_load(&game.moves);
        pid_t child;
        while (mtask_word_load(&game.moves) - seen < 50)
            sched_yield();
        child = fork();
        if (child == 0)
            use_all_in_child(&crew, &game);
        await_child(child);
    }
    crew_check_back(&crew, 0);
    ck_assert_int_eq(mtask_word_wake(&crew.word, INT_MAX, 0), 5);
    crew_end(&crew);
    tokens_end(&game);
}
END_TEST

/* In the child the loop is not there any more, so its coroutine waits as a thread. */
static void fork_and_wait(fake_coro *self) {
    mtask_word parks = self->parks;
    uint64_t id = mtask_task_id();
    pid_t child = fork();
    if (child == 0) {
        mtask_word word = 0;
        ck_assert_status(mtask_word_wait(&word, 0, MTASK_MS(2), 0), MTASK_TIMEOUT);
        ck_assert_status(mtask_sleep(MTASK_MS(1)), MTASK_OK);
        ck_assert_uint_eq(self->parks, parks);
        ck_assert_uint_ne(mtask_task_id(), id);
        _exit(0);
    }
    await_child(child);
    ck_assert_status(mtask_sleep(MTASK_MS(1)), MTASK_OK);
    ck_assert_uint_eq(self->parks, parks + 1);
    ck_assert_uint_eq(mtask_task_id(), id);
}

START_TEST(a_child_forked_by_a_coroutine_waits_as_a_thread) {
    (void)run_coro(fork_and_wait, NULL);
}
END_TEST

/* ---- listeners: to wait for some of many futures ---- */

#define SLOTS       16
#define FUTURES_MAX 20 /* more than fit on the stack of mtask_futures_wait */

typedef struct promise_market {
    mtask_future *slots[SLOTS]; /* promises that somebody is to keep */
    mtask_word closed;
    mtask_word waits;
    mtask_word gone; /* listeners that have come to their end */
    long rounds;     /* for each listener, at most */
    int64_t end;
    uint64_t seed;
} promise_market;

/* Ends the futures that it finds, one way or the other. */
static void keep_promises(testing_member *self) {
    promise_market *all = (promise_market *)self->arg;
    testing_random random = testing_random_make(all->seed, 100 + (unsigned)self->index);
    while (mtask_word_load(&all->closed) == 0) {
        mtask_future **slot = &all->slots[testing_below(&random, SLOTS)];
        mtask_future *future = __atomic_exchange_n(slot, NULL, __ATOMIC_ACQ_REL);
        uint64_t how = testing_below(&random, 8);
        if (future == NULL) {
            sched_yield();
            continue;
        }
        if (how == 0)
            ck_assert_status(mtask_future_fail(future, MTASK_CLOSED, "no"), MTASK_OK);
        else if (how == 1)
            ck_assert_status(mtask_future_cancel(future), MTASK_OK);
        else
            ck_assert_status(mtask_future_set(future, future), MTASK_OK);
        mtask_future_release(future);
    }
}

static void promise(promise_market *all, mtask_future *future, fake_coro *coro,
                    testing_random *random) {
    for (;;) {
        mtask_future *none = NULL;
        mtask_future **slot = &all->slots[testing_below(random, SLOTS)];
        if (__atomic_compare_exchange_n(slot, &none, mtask_future_retain(future), false,
                                        __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
            return;
        mtask_future_release(future);
        if (coro != NULL)
            coro_yield(coro);
        else
            sched_yield();
    }
}

/* Whether what the mode says is so. */
static bool has_come(mtask_future *const *futures, size_t count, mtask_wait_mode mode) {
    size_t done = 0;
    bool failed = false;
    for (size_t i = 0; i < count; i++) {
        done += mtask_future_done(futures[i]);
        failed |= mtask_future_get(futures[i], NULL, MTASK_NOWAIT) == MTASK_FAILED;
    }
    if (mode == MTASK_WAIT_ANY)
        return done > 0;
    return done == count || (mode == MTASK_WAIT_FIRST_FAILURE && failed);
}

/* Waits until OK, giving up and trying again on the way. */
static void listen_to(mtask_future *const *futures, size_t count, mtask_wait_mode mode,
                      fake_coro *coro, testing_random *random) {
    for (;;) {
        bool hurry = testing_below(random, 4) == 0;
        int64_t patience = hurry ? MTASK_US((int64_t)testing_below(random, 50)) : MTASK_FOREVER;
        mtask_status status = mtask_futures_wait(futures, count, mode, patience);
        if (status == MTASK_OK)
            break;
        testing_check((hurry && status == MTASK_TIMEOUT) ||
                      (coro != NULL && status == MTASK_CANCELED));
        if (status == MTASK_CANCELED)
            coro_forgive(coro);
    }
    testing_check(has_come(futures, count, mode));
}

static void listen_often(promise_market *all, fake_coro *coro, unsigned index) {
    testing_random random = testing_random_make(all->seed, index);
    for (long round = 0; round < all->rounds && mtask_now() < all->end; round++) {
        mtask_future *futures[FUTURES_MAX];
        size_t count = 1 + testing_below(&random, 4);
        if (round % 64 == 0)
            count = FUTURES_MAX;
        for (size_t i = 0; i < count; i++) {
            ck_assert_status(mtask_future_create(&futures[i], NULL), MTASK_OK);
            promise(all, futures[i], coro, &random);
        }
        listen_to(futures, count, (mtask_wait_mode)testing_below(&random, 3), coro, &random);
        listen_to(futures, count, MTASK_WAIT_ALL, coro, &random);
        for (size_t i = 0; i < count; i++)
            mtask_future_release(futures[i]);
        mtask_word_add(&all->waits, 2);
    }
    mtask_word_add(&all->gone, 1);
}

static void listen_as_thread(testing_member *self) {
    listen_often((promise_market *)self->arg, NULL, (unsigned)self->index);
}

static void listen_as_coro(fake_coro *self) {
    listen_often((promise_market *)self->arg, self, 10 + (unsigned)self->index);
}

static void cancel_listeners(const promise_market *all, fake_loop *loop, mtask_word listeners) {
    testing_random random = testing_random_make(all->seed, 99);
    while (mtask_word_load(&all->gone) != listeners) {
        uint64_t which = testing_below(&random, (uint64_t)loop->count);
        for (fake_coro *coro = loop->coros; coro != NULL; coro = coro->next)
            if (which-- == 0)
                coro_cancel(coro);
        testing_pause(0);
    }
}

START_TEST(listeners_hear_of_futures_from_threads_and_coroutines) {
    promise_market all;
    testing_crowd setters, listeners;
    fake_loop *loop = loop_create();
    memset(&all, 0, sizeof all);
    all.seed = testing_seed();
    all.rounds = testing_scale(4000);
    all.end = mtask_deadline(MTASK_MS(GAME_TIME_MS));
    loop_add_many(loop, 6, listen_as_coro, &all);
    loop_start(loop);
    testing_crowd_start(&listeners, 2, listen_as_thread, &all);
    testing_crowd_start(&setters, 2, keep_promises, &all);
    cancel_listeners(&all, loop, 8);
    mtask_word_store(&all.closed, 1);
    testing_crowd_join(&setters);
    testing_crowd_join(&listeners);
    loop_join(loop);
    fprintf(stderr, "listeners: %u waits, %u posts\n", all.waits, loop->posts);
    ck_assert_uint_gt(loop->posts, 0);
    loop_free(loop);
}
END_TEST

TESTING_MAIN(
    "mtask_wait", word_atomics_do_what_they_say, word_atomics_lose_nothing,
    a_wait_returns_at_once_when_the_value_differs,
    nowait_only_looks_and_a_negative_timeout_is_refused, a_timeout_never_comes_early,
    a_timeout_too_far_for_the_clock_never_comes, a_wake_wakes_exactly_so_many_threads,
    a_wake_wakes_exactly_so_many_parked_tasks, a_wake_wakes_exactly_so_many_of_both,
    parked_tasks_go_on_in_the_order_they_came, a_wake_reaches_only_those_who_wait_for_its_word,
    a_wake_of_one_class_leaves_the_other_asleep, waiters_without_a_class_are_woken_by_every_class,
    a_parked_task_gets_its_turn_among_many_threads, a_thread_gets_its_turn_among_many_parked_tasks,
    nobody_starves_when_all_come_back_to_wait, a_wake_does_not_touch_memory_that_is_gone,
    a_signal_does_not_end_a_wait, a_deadline_holds_through_signals, waits_and_wakes_keep_errno,
    SHARED_TESTS, a_wait_that_must_not_park_blocks_the_thread,
    a_wait_that_must_not_be_is_refused_and_leaves_nothing_behind,
    a_wait_that_its_loop_refuses_leaves_nothing_behind, everything_that_blocks_parks_a_coroutine,
    a_sleeping_coroutine_is_parked, a_parked_wait_times_out_and_can_be_tried_again,
    a_parked_wait_is_canceled_and_can_be_tried_again,
    what_takes_no_timeout_is_no_cancellation_point, nothing_is_deceived_by_a_wake_for_no_reason,
    woken_beats_canceled, woken_beats_timed_out, a_waiter_that_gives_up_looks_once_more,
    a_canceled_waiter_does_not_swallow_a_wake, coroutines_of_one_thread_are_different_tasks,
    a_token_passed_between_threads_and_coroutines_is_not_lost,
    a_token_passed_between_coroutines_is_not_lost, many_tokens_are_neither_lost_nor_doubled,
    what_is_produced_is_consumed_by_threads_and_coroutines,
    what_is_produced_is_consumed_by_coroutines, a_wake_of_all_reaches_all,
    a_chain_of_wakes_reaches_all, a_wake_is_not_lost_on_one_about_to_be_parked,
    a_wake_is_not_lost_on_one_about_to_sleep, a_loop_may_end_and_be_freed_while_wakers_post_to_it,
    a_child_forked_while_others_park_and_wake_starts_afresh,
    a_child_forked_by_a_coroutine_waits_as_a_thread,
    listeners_hear_of_futures_from_threads_and_coroutines)
