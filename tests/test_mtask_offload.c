/* test_mtask_offload.c - what blocks is done elsewhere: functions, files; and what the system tells a
   process: signals, the end of its children */
#include "testing_io.h"

#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

/* Longer than any test takes: what ends such a wait is not the time. */
#define LONG MTASK_SEC(100000)

#define COUNT_OF(array) ((long)(sizeof(array) / sizeof(array)[0]))

/* ThreadSanitizer would otherwise end a child of a threaded process that starts a thread. */
const char *__tsan_default_options(void);
const char *__tsan_default_options(void) {
    return "die_after_fork=0:report_thread_leaks=0";
}

/* ---- what runs elsewhere ---- */

/* What a function that is off-loaded sees and does. */
typedef struct chore {
    mtask_word begun;
    mtask_word ended;
    mtask_event gate;
    int tid;
} chore;

/* Waits for the gate. */
static void *run_errand(void *arg) {
    chore *self = (chore *)arg;
    __atomic_store_n(&self->tid, own_tid(), __ATOMIC_SEQ_CST);
    (void)mtask_word_add(&self->begun, 1);
    ck_assert_status(mtask_event_wait(&self->gate, MTASK_FOREVER), MTASK_OK);
    (void)mtask_word_add(&self->ended, 1);
    return arg;
}

static void *return_arg(void *arg) {
    return arg;
}

static void *fail_to_find(void *arg) {
    return mtask_fail(MTASK_NOT_FOUND, "there is no %s", (const char *)arg);
}

/* Lets fn(arg) be called between two tasks, and waits for that. */
static void on_the_loop(void (*fn)(void *arg), void *arg) {
    mtask_loop_call call = {.fn = fn, .arg = arg};
    ck_assert_status(mtask_loop_post(mtask_loop_current(), &call), MTASK_OK);
    while (__atomic_load_n(&call.posted, __ATOMIC_ACQUIRE) != 0)
        ck_assert_status(mtask_yield(), MTASK_OK); /* it lies on this stack */
}

static void *offload_errand(void *arg) {
    mtask_outcome outcome = {.status = MTASK_INVALID};
    ck_assert_status(mtask_offload(run_errand, arg, &outcome), MTASK_OK);
    ck_assert_status(outcome.status, MTASK_OK);
    ck_assert_ptr_eq(outcome.value, arg);
    return arg;
}

static void *open_gate_beside(void *arg) {
    chore errand = {.begun = 0};
    mtask_future *future = go(offload_errand, &errand);
    await_value(&errand.begun, 1);
    ck_assert_int_ne(__atomic_load_n(&errand.tid, __ATOMIC_SEQ_CST), own_tid());
    for (int i = 0; i < 20; i++)
        take_turns();
    ck_assert_uint_eq(mtask_word_load(&errand.ended), 0);
    mtask_event_set(&errand.gate);
    (void)take(future);
    ck_assert_uint_eq(mtask_word_load(&errand.ended), 1);
    return arg;
}

START_TEST(the_other_tasks_go_on_while_one_waits_for_a_function) {
    (void)in_loop(open_gate_beside, NULL);
    (void)in_loop(open_gate_beside, NULL); /* a second loop uses the same threads */
}
END_TEST

START_TEST(outside_of_a_loop_the_function_is_just_called) {
    chore errand = {.begun = 0};
    mtask_event_set(&errand.gate);
    (void)offload_errand(&errand);
    ck_assert_int_eq(errand.tid, own_tid());
}
END_TEST

static void *offload_failures(void *arg) {
    char word[] = "answer";
    mtask_outcome outcome;
    memset(&outcome, 0xA5, sizeof outcome);
    ck_assert_status(mtask_offload(fail_to_find, word, &outcome), MTASK_FAILED);
    ck_assert_status(outcome.status, MTASK_NOT_FOUND);
    ck_assert_str_eq(outcome.text, "there is no answer");
    ck_assert_ptr_null(outcome.value);
    ck_assert_status(mtask_offload(fail_to_find, word, NULL), MTASK_FAILED);
    if (mtask_loop_current() != NULL)
        ck_assert_status(mtask_failure(NULL), MTASK_OK); /* it is not the caller's */
    memset(&outcome, 0xA5, sizeof outcome);
    ck_assert_status(mtask_offload(return_arg, word, &outcome), MTASK_OK);
    ck_assert_status(outcome.status, MTASK_OK);
    ck_assert_str_eq(outcome.text, "");
    ck_assert_ptr_eq(outcome.value, word);
    ck_assert_status(mtask_offload(return_arg, NULL, NULL), MTASK_OK);
    ck_assert_status(mtask_offload(NULL, word, &outcome), MTASK_INVALID);
    return arg;
}

START_TEST(the_caller_learns_how_the_function_ended) {
    everywhere(offload_failures, NULL);
}
END_TEST

/* Off-loads with an argument on its stack, and is cancelled meanwhile. */
static void *offload_from_own_stack(void *arg) {
    chore **seen = (chore **)arg;
    chore errand = {.begun = 0};
    __atomic_store_n(seen, &errand, __ATOMIC_SEQ_CST);
    (void)offload_errand(&errand);
    ck_assert_uint_eq(mtask_word_load(&errand.ended), 1);
    ck_assert(mtask_canceled());
    ck_assert_status(mtask_sleep(LONG), MTASK_CANCELED);
    return arg;
}

static chore *await_errand(chore **seen) {
    while (__atomic_load_n(seen, __ATOMIC_SEQ_CST) == NULL)
        linger();
    await_value(&(*seen)->begun, 1);
    return *seen;
}

static void *cancel_offload(void *arg) {
    chore *seen = NULL;
    mtask_future *future = go(offload_from_own_stack, &seen);
    chore *errand = await_errand(&seen);
    ck_assert_status(mtask_future_cancel(future), MTASK_OK);
    ck_assert_status(mtask_sleep(MTASK_MS(2)), MTASK_OK);
    ck_assert(!mtask_future_done(future));
    mtask_event_set(&errand->gate);
    (void)take(future);
    return arg;
}

START_TEST(cancellation_does_not_end_the_wait_for_a_function) {
    (void)in_loop(cancel_offload, NULL);
}
END_TEST

static void *limit_own_offload(void *arg) {
    ck_assert_status(mtask_with_timeout(MTASK_MS(1), offload_from_own_stack, arg, NULL),
                     MTASK_TIMEOUT); /* the sleep behind it was cut short */
    return arg;
}

static void *limit_offload(void *arg) {
    chore *seen = NULL;
    mtask_future *future = go(limit_own_offload, &seen);
    chore *errand = await_errand(&seen);
    ck_assert_status(mtask_sleep(MTASK_MS(3)), MTASK_OK);
    ck_assert(!mtask_future_done(future));
    mtask_event_set(&errand->gate);
    (void)take(future);
    return arg;
}

START_TEST(a_limit_does_not_end_the_wait_for_a_function) {
    (void)in_loop(limit_offload, NULL);
}
END_TEST

static void *cancel_before_offload(void *arg) {
    int value = 0;
    mtask_outcome outcome;
    ck_assert_status(mtask_sleep(LONG), MTASK_CANCELED);
    ck_assert_status(mtask_offload(return_arg, &value, &outcome), MTASK_OK);
    ck_assert_ptr_eq(outcome.value, &value);
    return arg;
}

static void *offload_when_cancelled(void *arg) {
    mtask_future *future = go(cancel_before_offload, NULL);
    take_turns();
    ck_assert_status(mtask_future_cancel(future), MTASK_OK);
    (void)take(future);
    ck_assert_status(mtask_go(cancel_before_offload, NULL, NULL),
                     MTASK_OK); /* the end of the loop cancels this one */
    take_turns();
    return arg;
}

START_TEST(a_task_that_is_cancelled_may_still_offload) {
    mtask_outcome outcome;
    ck_assert_status(mtask_loop_run(offload_when_cancelled, NULL, &outcome), MTASK_OK);
}
END_TEST

/* How many are inside at once, and at most were. */
typedef struct crush {
    mtask_word inside;
    mtask_word most;
    mtask_word done;
} crush;

static void *be_inside(void *arg) {
    crush *self = (crush *)arg;
    mtask_word inside = mtask_word_add(&self->inside, 1) + 1, most = mtask_word_load(&self->most);
    while (inside > most && !mtask_word_cas(&self->most, &most, inside)) {
    }
    testing_pause(1);
    (void)mtask_word_add(&self->inside, (mtask_word)-1);
    (void)mtask_word_add(&self->done, 1);
    return arg;
}

static void *offload_to_crush(void *arg) {
    ck_assert_status(mtask_offload(be_inside, arg, NULL), MTASK_OK);
    return arg;
}

static void *offload_many(void *arg) {
    mtask_future *futures[100];
    for (long i = 0; i < COUNT_OF(futures); i++)
        futures[i] = go(offload_to_crush, arg);
    for (long i = 0; i < COUNT_OF(futures); i++)
        (void)take(futures[i]);
    return arg;
}

static void offload_many_there(testing_member *self) {
    (void)in_loop(offload_many, self->arg);
}

START_TEST(many_functions_run_at_once_but_no_more_than_there_are_threads) {
    crush self = {.done = 0};
    testing_crowd crowd;
    testing_crowd_start(&crowd, 3, offload_many_there, &self);
    testing_crowd_join(&crowd);
    ck_assert_uint_eq(mtask_word_load(&self.done), 300);
    ck_assert_uint_gt(mtask_word_load(&self.most), 1);
    ck_assert_uint_le(mtask_word_load(&self.most), MTASK_OFFLOAD_THREADS);
}
END_TEST

static void *block_all_threads(void *arg) {
    chore errand = {.begun = 0};
    mtask_future *futures[MTASK_OFFLOAD_THREADS + 8];
    for (long i = 0; i < COUNT_OF(futures); i++)
        futures[i] = go(offload_errand, &errand);
    await_value(&errand.begun, MTASK_OFFLOAD_THREADS);
    ck_assert_status(mtask_sleep(MTASK_MS(3)), MTASK_OK);
    ck_assert_uint_eq(mtask_word_load(&errand.begun), MTASK_OFFLOAD_THREADS);
    mtask_event_set(&errand.gate);
    for (long i = 0; i < COUNT_OF(futures); i++)
        (void)take(futures[i]);
    ck_assert_uint_eq(mtask_word_load(&errand.ended), COUNT_OF(futures));
    return arg;
}

START_TEST(functions_for_which_there_is_no_thread_wait_for_one) {
    (void)in_loop(block_all_threads, NULL);
}
END_TEST

static void *offload_return(void *arg) {
    mtask_outcome outcome;
    ck_assert_status(mtask_offload(return_arg, arg, &outcome), MTASK_OK);
    return outcome.value;
}

/* In the thread of an off-loaded function, a loop whose task off-loads in its turn. */
static void *offload_deeper(void *arg) {
    mtask_outcome outcome;
    ck_assert_ptr_null(mtask_loop_current());
    ck_assert_ptr_eq(offload_return(arg), arg);
    ck_assert_status(mtask_loop_run(offload_return, arg, &outcome), MTASK_OK);
    return outcome.value;
}

static void *offload_in_layers(void *arg) {
    mtask_outcome outcome;
    mtask_coro *coro = open_coro(offload_return, arg);
    ck_assert_status(mtask_offload(offload_deeper, arg, &outcome), MTASK_OK);
    ck_assert_ptr_eq(outcome.value, arg);
    ck_assert_int_eq(resume_for(coro, 0, MTASK_DONE), (long)arg);
    end_coro(coro);
    return arg;
}

START_TEST(an_offloaded_function_may_run_a_loop_and_a_coroutine_may_offload) {
    int value;
    ck_assert_ptr_eq(in_loop(offload_in_layers, &value), &value);
}
END_TEST

static void *set_errno(void *arg) {
    errno = *(int *)arg;
    return arg;
}

static void *keep_errno(void *arg) {
    int number = ENOSPC;
    ck_assert_status(mtask_offload(return_arg, NULL, NULL), MTASK_OK); /* starts threads */
    errno = EDOM;
    ck_assert_status(mtask_offload(set_errno, &number, NULL), MTASK_OK);
    testing_check(errno == EDOM || errno == ENOSPC); /* its own, or the function's */
    return arg;
}

START_TEST(no_errno_comes_out_of_nowhere) {
    everywhere(keep_errno, NULL);
}
END_TEST

/* ---- functions that may be left behind ---- */

/* What is copied in and out. */
typedef struct goods {
    long number;
    chore *errand;            /* its gate; outlives all */
    mtask_word *drops;        /* how often drop was called */
    const struct goods *mine; /* the caller's, which is no business of the function's */
    char padding[4096];
} goods;

static void make_parcel(goods *self, chore *errand, mtask_word *drops) {
    memset(self, 0, sizeof *self);
    self->number = 1;
    self->errand = errand;
    self->drops = drops;
    self->mine = self;
    make_pattern(self->padding, 0, sizeof self->padding);
}

/* Waits for the gate, then changes all of its copy. */
static void *change_parcel(void *arg) {
    goods *self = (goods *)arg;
    testing_check(self != self->mine);
    check_pattern(self->padding, 0, sizeof self->padding);
    (void)run_errand(self->errand);
    self->number++;
    make_pattern(self->padding, 7, sizeof self->padding);
    return self->errand;
}

static void drop_parcel(void *data) {
    goods *self = (goods *)data;
    testing_check(self != self->mine);
    (void)mtask_word_add(self->drops, 1);
}

/* Whether the parcel is as it was made. */
static void check_unchanged(const goods *self) {
    ck_assert_int_eq(self->number, 1);
    check_pattern(self->padding, 0, sizeof self->padding);
}

static void check_changed(const goods *self) {
    ck_assert_int_eq(self->number, 2);
    check_pattern(self->padding, 7, sizeof self->padding);
}

static void *send_parcel(void *arg) {
    chore errand = {.begun = 0};
    mtask_word drops = 0;
    mtask_outcome outcome = {.status = MTASK_INVALID};
    goods parcel;
    make_parcel(&parcel, &errand, &drops);
    mtask_event_set(&errand.gate);
    ck_assert_status(
        mtask_offload_for(change_parcel, &parcel, sizeof parcel, drop_parcel, &outcome, LONG),
        MTASK_OK);
    check_changed(&parcel);
    ck_assert_ptr_eq(outcome.value, &errand);
    ck_assert_int_ne(errand.tid, own_tid());
    make_parcel(&parcel, &errand, &drops);
    parcel.mine = NULL; /* without a limit, outside of a loop, there is no need for a copy */
    ck_assert_status(
        mtask_offload_for(change_parcel, &parcel, sizeof parcel, NULL, NULL, MTASK_FOREVER),
        MTASK_OK);
    check_changed(&parcel);
    ck_assert_uint_eq(drops, 0); /* what came back is the caller's again */
    return arg;
}

START_TEST(what_a_function_does_to_its_copy_comes_back) {
    everywhere(send_parcel, NULL);
}
END_TEST

/* Gives the function up, and returns: its stack is overwritten by whatever comes next. */
static void abandon(chore *errand, mtask_word *drops, int64_t timeout) {
    goods parcel;
    mtask_outcome outcome;
    int64_t start = mtask_now();
    make_parcel(&parcel, errand, drops);
    ck_assert_status(
        mtask_offload_for(change_parcel, &parcel, sizeof parcel, drop_parcel, &outcome, timeout),
        MTASK_TIMEOUT);
    testing_check(mtask_now() - start >= timeout);
    check_unchanged(&parcel);
}

static void *abandon_some(void *arg) {
    static const int64_t timeouts[] = {MTASK_MS(1), 1, MTASK_NOWAIT};
    chore errand = {.begun = 0};
    mtask_word drops = 0;
    for (long i = 0; i < COUNT_OF(timeouts); i++)
        abandon(&errand, &drops, timeouts[i]);
    ck_assert_status(mtask_sleep(MTASK_MS(2)), MTASK_OK);
    mtask_event_set(&errand.gate);
    await_value(&drops, COUNT_OF(timeouts));
    ck_assert_status(mtask_sleep(MTASK_MS(1)), MTASK_OK);
    ck_assert_uint_eq(mtask_word_load(&drops), COUNT_OF(timeouts));
    ck_assert_uint_eq(mtask_word_load(&errand.begun), mtask_word_load(&errand.ended));
    return arg;
}

START_TEST(a_function_that_takes_too_long_goes_on_alone) {
    everywhere(abandon_some, NULL);
}
END_TEST

START_TEST(a_function_left_behind_needs_no_drop) {
    chore errand = {.begun = 0};
    goods parcel;
    make_parcel(&parcel, &errand, NULL);
    ck_assert_status(
        mtask_offload_for(change_parcel, &parcel, sizeof parcel, NULL, NULL, MTASK_MS(20)),
        MTASK_TIMEOUT);
    mtask_event_set(&errand.gate);
    await_value(&errand.ended, mtask_word_load(&errand.begun));
    ck_assert_status(mtask_sleep(MTASK_MS(2)), MTASK_OK);
    check_unchanged(&parcel);
}
END_TEST

typedef struct rendezvous {
    chore errand;
    mtask_word drops;
} rendezvous;

static void *send_until_cancelled(void *arg) {
    rendezvous *self = (rendezvous *)arg;
    goods parcel;
    make_parcel(&parcel, &self->errand, &self->drops);
    ck_assert_status(
        mtask_offload_for(change_parcel, &parcel, sizeof parcel, drop_parcel, NULL, LONG),
        MTASK_CANCELED);
    check_unchanged(&parcel);
    return arg;
}

/* Waits until so many have begun, or were dropped before they could: a busy machine may take longer
   to begin than their sender waits. */
static void await_parcels(const rendezvous *self, mtask_word count) {
    while (mtask_word_load(&self->errand.begun) + mtask_word_load(&self->drops) != count)
        ck_assert_status(mtask_sleep(MTASK_MS(1)), MTASK_OK);
}

static void *cancel_parcels(void *arg) {
    rendezvous *self = (rendezvous *)arg;
    mtask_future *future = go(send_until_cancelled, self);
    await_value(&self->errand.begun, 1);
    ck_assert_status(mtask_future_cancel(future), MTASK_OK);
    (void)take(future);
    ck_assert_status(mtask_with_timeout(MTASK_MS(1), send_until_cancelled, self, NULL),
                     MTASK_TIMEOUT);
    await_parcels(self, 2);
    (void)mtask_go(send_until_cancelled, self, NULL); /* the end of the loop cancels this one */
    await_parcels(self, 3);
    return arg;
}

START_TEST(the_wait_for_a_copy_can_be_cancelled) {
    rendezvous self;
    memset(&self, 0, sizeof self);
    (void)in_loop(cancel_parcels, &self);
    await_parcels(&self, 3);
    mtask_event_set(&self.errand.gate); /* they end when the loop is gone */
    await_value(&self.drops, 3);
    ck_assert_status(mtask_sleep(MTASK_MS(1)), MTASK_OK);
    ck_assert_uint_eq(mtask_word_load(&self.drops), 3);
}
END_TEST

/* All threads are busy: what is given up now never begins, and is dropped nevertheless. */
static void *abandon_unbegun(void *arg) {
    rendezvous busy, late;
    mtask_future *futures[MTASK_OFFLOAD_THREADS];
    memset(&busy, 0, sizeof busy);
    memset(&late, 0, sizeof late);
    for (long i = 0; i < COUNT_OF(futures); i++)
        futures[i] = go(offload_errand, &busy.errand);
    await_value(&busy.errand.begun, MTASK_OFFLOAD_THREADS);
    mtask_event_set(&late.errand.gate);
    abandon(&late.errand, &late.drops, MTASK_MS(1));
    mtask_event_set(&busy.errand.gate);
    for (long i = 0; i < COUNT_OF(futures); i++)
        (void)take(futures[i]);
    await_value(&late.drops, 1);
    ck_assert_status(mtask_sleep(MTASK_MS(1)), MTASK_OK);
    ck_assert_uint_eq(mtask_word_load(&late.drops), 1);
    return arg;
}

START_TEST(a_function_that_is_given_up_before_it_began_is_dropped_once) {
    (void)in_loop(abandon_unbegun, NULL);
}
END_TEST

static void *fail_with_parcel(void *arg) {
    ((goods *)arg)->number = 5;
    return mtask_fail(MTASK_FULL, "no room for %ld", ((goods *)arg)->number);
}

static void *fail_copies(void *arg) {
    mtask_word drops = 0;
    mtask_outcome outcome;
    goods parcel;
    make_parcel(&parcel, NULL, &drops);
    ck_assert_status(
        mtask_offload_for(fail_with_parcel, &parcel, sizeof parcel, drop_parcel, &outcome, LONG),
        MTASK_FAILED);
    ck_assert_status(outcome.status, MTASK_FULL);
    ck_assert_str_eq(outcome.text, "no room for 5");
    ck_assert_int_eq(parcel.number, 5);
    ck_assert_status(mtask_offload_for(NULL, &parcel, sizeof parcel, drop_parcel, &outcome, LONG),
                     MTASK_INVALID);
    ck_assert_status(
        mtask_offload_for(fail_with_parcel, &parcel, sizeof parcel, drop_parcel, &outcome, -1),
        MTASK_INVALID);
    ck_assert_uint_eq(drops, 0);
    return arg;
}

START_TEST(a_copy_comes_back_from_a_function_that_fails_too) {
    everywhere(fail_copies, NULL);
}
END_TEST

static mtask_word nothings;

static void *do_with_nothing(void *arg) {
    (void)arg;
    (void)mtask_word_add(&nothings, 1);
    return &nothings;
}

static void *send_nothing(void *arg) {
    mtask_outcome outcome = {.status = MTASK_INVALID};
    char byte = 'b';
    ck_assert_status(mtask_offload_for(do_with_nothing, NULL, 0, NULL, &outcome, LONG), MTASK_OK);
    ck_assert_ptr_eq(outcome.value, &nothings);
    ck_assert_status(mtask_offload_for(do_with_nothing, &byte, 0, NULL, NULL, LONG), MTASK_OK);
    ck_assert_int_eq(byte, 'b');
    return arg;
}

START_TEST(there_may_be_nothing_to_copy) {
    everywhere(send_nothing, NULL);
    ck_assert_uint_eq(mtask_word_load(&nothings), 4);
}
END_TEST

static void offload_there(void *arg) {
    chore *errand = (chore *)arg;
    goods parcel;
    make_parcel(&parcel, errand, NULL);
    ck_assert_status(
        mtask_offload_for(change_parcel, &parcel, sizeof parcel, NULL, NULL, MTASK_SEC(5)),
        MTASK_DEADLOCK);
    check_unchanged(&parcel);
}

static void *offload_in_a_posted_call(void *arg) {
    chore errand = {.begun = 0};
    on_the_loop(offload_there, &errand);
    mtask_event_set(&errand.gate);
    while (mtask_word_load(&errand.ended) < mtask_word_load(&errand.begun))
        linger();
    ck_assert_status(mtask_sleep(MTASK_MS(2)), MTASK_OK);
    return arg;
}

START_TEST(the_loop_itself_does_not_wait_for_a_function) {
    (void)in_loop(offload_in_a_posted_call, NULL);
}
END_TEST

static void *pause_and_return(void *arg) {
    testing_pause(3);
    return arg;
}

static void *offload_where_nobody_wakes(void *arg) {
    long number = 1;
    ck_assert_status(mtask_offload(pause_and_return, &number, NULL), MTASK_OK);
    ck_assert_status(
        mtask_offload_for(pause_and_return, &number, sizeof number, NULL, NULL, MTASK_FOREVER),
        MTASK_OK);
    return arg;
}

/* The threads that run functions are no wakers of the caller's. */
START_TEST(waiting_for_a_function_is_no_dead_lock) {
    mtask_loop_desc desc = {.no_external_wakers = true};
    ck_assert_status(mtask_loop_run_ex(offload_where_nobody_wakes, NULL, NULL, &desc), MTASK_OK);
}
END_TEST

/* ---- functions that end just when they are given up ---- */

/* What happened in many rounds. */
typedef struct photo_finish {
    uint64_t seed;
    mtask_word lost;  /* rounds in which time was up first */
    mtask_word drops; /* copies dropped */
} photo_finish;

typedef struct runner {
    long sum;
    long pause; /* nanoseconds */
    photo_finish *race;
} runner;

static void *run_a_little(void *arg) {
    runner *self = (runner *)arg;
    struct timespec pause = {0, self->pause};
    nanosleep(&pause, NULL);
    self->sum += 1000;
    return arg;
}

static void drop_runner(void *data) {
    (void)mtask_word_add(&((runner *)data)->race->drops, 1);
}

static void race_once(photo_finish *race, testing_random *random) {
    runner mine = {.sum = (long)testing_below(random, 900), .race = race};
    long before = mine.sum;
    mtask_status status;
    mine.pause = (long)testing_below(random, 100000);
    status = mtask_offload_for(run_a_little, &mine, sizeof mine, drop_runner, NULL,
                               (int64_t)testing_below(random, 250000));
    if (status == MTASK_TIMEOUT)
        (void)mtask_word_add(&race->lost, 1);
    else
        ck_assert_status(status, MTASK_OK);
    ck_assert_int_eq(mine.sum, status == MTASK_OK ? before + 1000 : before);
}

static void *race_in_turn(void *arg) {
    photo_finish *race = (photo_finish *)arg;
    testing_random random = testing_random_make(race->seed, (unsigned)own_tid());
    int64_t start = mtask_now();
    for (long i = testing_scale(1500); i > 0 && mtask_now() - start < MTASK_MS(120); i--)
        race_once(race, &random);
    return arg;
}

static void *race_in_tasks(void *arg) {
    mtask_future *futures[3];
    for (int i = 0; i < 3; i++)
        futures[i] = go(race_in_turn, arg);
    for (int i = 0; i < 3; i++)
        (void)take(futures[i]);
    return arg;
}

static void race_there(testing_member *self) {
    if (self->index == 0)
        (void)in_loop(race_in_tasks, self->arg);
    else
        (void)race_in_turn(self->arg);
}

START_TEST(a_function_ends_in_time_or_is_dropped_never_both) {
    photo_finish race = {.seed = testing_seed()};
    testing_crowd crowd;
    testing_crowd_start(&crowd, 2, race_there, &race);
    testing_crowd_join(&crowd);
    await_value(&race.drops, mtask_word_load(&race.lost));
    ck_assert_status(mtask_sleep(MTASK_MS(2)), MTASK_OK);
    ck_assert_uint_eq(mtask_word_load(&race.drops), mtask_word_load(&race.lost));
}
END_TEST

/* ---- after a fork ---- */

/* Sanitizers are not ready for a child of a threaded process that allocates or starts threads. */
#define CHILD_IS_CRIPPLED (TESTING_TSAN || TESTING_ASAN)

/* Waits for a child to end well. */
static void await_child(pid_t pid) {
    int status = 0;
    ck_assert_status(mtask_child_wait(pid, &status, LONG), MTASK_OK);
    testing_check(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* What a child can do with threads that it does not have. */
static void offload_in_child(void) {
    mtask_outcome outcome;
    int value;
    IN_CHILD(mtask_offload(return_arg, &value, &outcome) == MTASK_OK);
    IN_CHILD(outcome.value == &value);
    if (CHILD_IS_CRIPPLED)
        _exit(0);
    IN_CHILD(mtask_offload_for(do_with_nothing, NULL, 0, NULL, &outcome, MTASK_FOREVER) ==
             MTASK_OK);
    IN_CHILD(outcome.value == &nothings);
    IN_CHILD(mtask_loop_run(offload_return, &value, &outcome) == MTASK_OK);
    IN_CHILD(outcome.value == &value);
    _exit(0);
}

static void *fork_while_offloading(void *arg) {
    chore errand = {.begun = 0};
    mtask_future *future = go(offload_errand, &errand);
    pid_t pid;
    await_value(&errand.begun, 1);
    pid = fork_child();
    if (pid == 0)
        offload_in_child();
    await_child(pid);
    mtask_event_set(&errand.gate);
    (void)take(future);
    return arg;
}

START_TEST(a_child_has_threads_of_its_own) {
    pid_t pid;
    (void)in_loop(fork_while_offloading, NULL);
    (void)send_nothing(NULL);
    pid = fork_child();
    if (pid == 0)
        offload_in_child();
    await_child(pid);
}
END_TEST

/* ---- files ---- */

static void check_errno(mtask_status status, int expected) {
    int error = errno;
    ck_assert_status(status, MTASK_SYSTEM);
    ck_assert_int_eq(error, expected);
}

static void *open_files(void *arg) {
    int fd = -2;
    struct stat info;
    ck_assert_status(mtask_file_open(&fd, path_of("missing"), O_RDONLY, 0), MTASK_NOT_FOUND);
    ck_assert_int_eq(fd, -1);
    ck_assert_status(mtask_file_open(&fd, path_of("new"), O_RDWR | O_CREAT | O_EXCL, 0640),
                     MTASK_OK);
    testing_check(fd >= 0 && (fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
    testing_check(fstat(fd, &info) == 0 && (info.st_mode & 0777) == 0640);
    testing_check(close(fd) == 0);
    fd = -2;
    check_errno(mtask_file_open(&fd, path_of("new"), O_RDWR | O_CREAT | O_EXCL, 0640), EEXIST);
    ck_assert_int_eq(fd, -1);
    fd = -2;
    check_errno(mtask_file_open(&fd, folder, O_WRONLY, 0), EISDIR);
    ck_assert_int_eq(fd, -1);
    ck_assert_status(mtask_file_open(&fd, folder, O_RDONLY | O_DIRECTORY, 0), MTASK_OK);
    end_fd(fd);
    check_errno(mtask_file_open(&fd, path_of("new/below"), O_RDONLY, 0), ENOTDIR);
    testing_check(unlink(path_of("new")) == 0);
    return arg;
}

START_TEST(a_file_is_opened_or_not) {
    open_folder();
    everywhere(open_files, NULL);
    end_folder();
}
END_TEST

static void *open_forbidden(void *arg) {
    int fd = open(path_of("secret"), O_WRONLY | O_CREAT, 0);
    char *data = folder;
    size_t size;
    testing_check(fd >= 0 && close(fd) == 0);
    check_errno(mtask_file_open(&fd, path_of("secret"), O_RDONLY, 0), EACCES);
    ck_assert_int_eq(fd, -1);
    check_errno(mtask_file_load(path_of("secret"), 100, &data, &size), EACCES);
    ck_assert_ptr_null(data);
    testing_check(unlink(path_of("secret")) == 0);
    return arg;
}

/* Nobody's user: what is forbidden is not forbidden to root. */
START_TEST(a_file_may_be_forbidden) {
    open_folder();
    if (geteuid() == 0)
        testing_check(chmod(folder, 0777) == 0 && seteuid(65534) == 0);
    everywhere(open_forbidden, NULL);
    if (getuid() == 0)
        testing_check(seteuid(0) == 0);
    end_folder();
}
END_TEST

static void *read_pieces(void *arg) {
    enum { SIZE = 300000 };
    int fd = open_file(SIZE);
    char *buffer = malloc(SIZE + 10);
    static const struct {
        int64_t offset;
        size_t capacity, count;
    } all[] = {{0, 10, 10},       {0, SIZE, SIZE},  {0, SIZE + 10, SIZE}, {123, 200000, 200000},
               {SIZE - 5, 10, 5}, {SIZE - 1, 1, 1}, {4096, 4096, 4096},   {1, SIZE + 9, SIZE - 1}};
    testing_check(buffer != NULL);
    for (long i = 0; i < COUNT_OF(all); i++) {
        size_t count = 0;
        ck_assert_status(mtask_file_read(fd, buffer, all[i].capacity, all[i].offset, &count),
                         MTASK_OK);
        ck_assert_uint_eq(count, all[i].count);
        check_pattern(buffer, (size_t)all[i].offset, count);
    }
    for (int64_t offset = SIZE; offset < INT64_MAX / 4; offset *= 3) {
        size_t count = 7;
        ck_assert_status(mtask_file_read(fd, buffer, 10, offset, &count), MTASK_CLOSED);
        ck_assert_uint_eq(count, 0);
    }
    ck_assert_status(mtask_file_read(fd, buffer, 10, 0, NULL), MTASK_OK);
    ck_assert_int_eq(lseek(fd, 0, SEEK_CUR), 0);
    free(buffer);
    close(fd);
    return arg;
}

START_TEST(a_file_is_read_from_anywhere) {
    everywhere(read_pieces, NULL);
}
END_TEST

static void *read_badly(void *arg) {
    char buffer[8];
    int ends[2], fd = open_file(10);
    size_t count = 7;
    mtask_status status = mtask_file_read(fd, buffer, 8, -1, &count);
    testing_check(status == MTASK_INVALID || (status == MTASK_SYSTEM && errno == EINVAL));
    plain_pipe(ends);
    check_errno(mtask_file_read(ends[0], buffer, 8, 0, &count), ESPIPE);
    check_errno(mtask_file_write(ends[1], buffer, 8, 0), ESPIPE);
    end_plain(ends);
    check_errno(mtask_file_read(ends[0], buffer, 8, 0, &count), EBADF);
    close(fd);
    fd = open(folder, O_RDONLY | O_DIRECTORY);
    check_errno(mtask_file_read(fd, buffer, 8, 0, &count), EISDIR);
    close(fd);
    return arg;
}

START_TEST(what_cannot_be_read_from_anywhere_is_refused) {
    open_folder();
    everywhere(read_badly, NULL);
    end_folder();
}
END_TEST

static void *write_pieces(void *arg) {
    enum { SIZE = 200000 };
    int fd = open_file(0);
    char *buffer = malloc(SIZE);
    struct stat info;
    size_t count;
    testing_check(buffer != NULL);
    make_pattern(buffer, 0, SIZE);
    ck_assert_status(mtask_file_write(fd, buffer + SIZE / 2, SIZE / 2, SIZE / 2), MTASK_OK);
    ck_assert_status(mtask_file_write(fd, buffer, SIZE / 2, 0), MTASK_OK);
    ck_assert_status(mtask_file_write(fd, buffer, 0, 3), MTASK_OK);
    ck_assert_int_eq(lseek(fd, 0, SEEK_CUR), 0);
    testing_check(fstat(fd, &info) == 0 && info.st_size == SIZE);
    memset(buffer, 0, SIZE);
    ck_assert_status(mtask_file_read(fd, buffer, SIZE, 0, &count), MTASK_OK);
    check_pattern(buffer, 0, SIZE);
    free(buffer);
    close(fd);
    return arg;
}

START_TEST(a_file_is_written_anywhere) {
    everywhere(write_pieces, NULL);
}
END_TEST

static void *write_badly(void *arg) {
    int fd = open("/dev/full", O_WRONLY);
    if (fd >= 0) {
        check_errno(mtask_file_write(fd, "a", 1, 0), ENOSPC);
        close(fd);
    }
    fd = open("/dev/null", O_RDONLY);
    check_errno(mtask_file_write(fd, "a", 1, 0), EBADF);
    close(fd);
    return arg;
}

START_TEST(writing_to_a_full_disk_is_told_of) {
    everywhere(write_badly, NULL);
}
END_TEST

/* Loads a file that must have this content. */
static void check_loaded(const char *path, size_t size) {
    char *data = NULL;
    size_t loaded = size + 1;
    ck_assert_status(mtask_file_load(path, size, &data, &loaded), MTASK_OK);
    testing_check(data != NULL && loaded == size && data[size] == '\0');
    check_pattern(data, 0, size);
    mtask_file_free(data);
}

/* Saves a piece of the pattern and loads it again, with just enough room and with too little. */
static void save_and_load(const char *path, size_t size) {
    char *bytes = malloc(size + 1), *data = bytes;
    size_t loaded = 0;
    testing_check(bytes != NULL);
    make_pattern(bytes, 0, size);
    ck_assert_status(mtask_file_save(path, bytes, size), MTASK_OK);
    check_loaded(path, size);
    if (size > 0) {
        ck_assert_status(mtask_file_load(path, size - 1, &data, &loaded), MTASK_OVERFLOW);
        ck_assert_ptr_null(data);
    }
    ck_assert_status(mtask_file_load(path, size + 100000, &data, &loaded), MTASK_OK);
    ck_assert_uint_eq(loaded, size);
    mtask_file_free(data);
    free(bytes);
}

static void *save_sizes(void *arg) {
    static const size_t sizes[] = {0, 1, 4095, 4096, 4097, 65536, 1000000, 0, 7};
    for (long i = 0; i < COUNT_OF(sizes); i++)
        save_and_load(path_of("file"), sizes[i]);
    ck_assert_int_eq(count_files(false), 1);
    mtask_file_free(NULL);
    return arg;
}

START_TEST(whole_files_are_saved_and_loaded) {
    open_folder();
    everywhere(save_sizes, NULL);
    end_folder();
}
END_TEST

START_TEST(a_big_file_is_saved_and_loaded) {
    open_folder();
    save_and_load(path_of("file"), TESTING_TSAN ? 1000000 : 5000000);
    end_folder();
}
END_TEST

static void *load_badly(void *arg) {
    char *data = (char *)&data;
    size_t size = 7;
    ck_assert_status(mtask_file_load(path_of("missing"), 10, &data, &size), MTASK_NOT_FOUND);
    ck_assert_ptr_null(data);
    data = (char *)&data;
    check_errno(mtask_file_load(folder, 10, &data, &size), EISDIR);
    ck_assert_ptr_null(data);
    ck_assert_status(mtask_file_save(path_of("missing/file"), "a", 1), MTASK_NOT_FOUND);
    testing_check(mkdir(path_of("folder"), 0700) == 0);
    check_errno(mtask_file_save(path_of("folder"), "a", 1), EISDIR);
    ck_assert_int_eq(count_files(false), 1); /* nothing half done is left */
    testing_check(rmdir(path_of("folder")) == 0);
    return arg;
}

START_TEST(files_that_cannot_be_loaded_or_saved_are_told_of) {
    open_folder();
    everywhere(load_badly, NULL);
    end_folder();
}
END_TEST

/* Files of /proc say that they are empty. */
static void *load_endless(void *arg) {
    char *data = NULL;
    size_t size = 0;
    ck_assert_status(mtask_file_load("/proc/self/status", 100000, &data, &size), MTASK_OK);
    ck_assert_uint_gt(size, 100);
    ck_assert_uint_eq(strlen(data), size);
    ck_assert_int_eq(strncmp(data, "Name:", 5), 0);
    mtask_file_free(data);
    ck_assert_status(mtask_file_load("/proc/self/status", 10, &data, &size), MTASK_OVERFLOW);
    ck_assert_ptr_null(data);
    ck_assert_status(mtask_file_load("/dev/zero", 100000, &data, &size), MTASK_OVERFLOW);
    ck_assert_ptr_null(data);
    return arg;
}

START_TEST(a_file_that_is_longer_than_it_says_is_loaded) {
    everywhere(load_endless, NULL);
}
END_TEST

START_TEST(a_new_file_may_be_read_by_whom_the_mask_admits) {
    struct stat info;
    open_folder();
    (void)umask(027);
    ck_assert_status(mtask_file_save(path_of("file"), "a", 1), MTASK_OK);
    testing_check(stat(path_of("file"), &info) == 0);
    ck_assert_int_eq(info.st_mode & 0777, 0640);
    end_folder();
}
END_TEST

/* A file that is saved again and again, and loaded meanwhile. */
typedef struct press {
    char path[320];
    mtask_word over;
    long loads;
} press;

static void *save_again(void *arg) {
    press *self = (press *)arg;
    char bytes[60000];
    make_pattern(bytes, 0, sizeof bytes);
    for (long i = testing_scale(100); i > 0; i--)
        ck_assert_status(mtask_file_save(self->path, bytes, i % 2 == 0 ? 5 : sizeof bytes),
                         MTASK_OK);
    mtask_word_store(&self->over, 1);
    return arg;
}

static void *load_again(void *arg) {
    press *self = (press *)arg;
    while (mtask_word_load(&self->over) == 0) {
        char *data = NULL;
        size_t size = 0;
        ck_assert_status(mtask_file_load(self->path, 100000, &data, &size), MTASK_OK);
        testing_check(size == 5 || size == 60000);
        check_pattern(data, 0, size);
        mtask_file_free(data);
        self->loads++;
    }
    return arg;
}

START_TEST(who_loads_a_file_that_is_being_saved_sees_the_old_or_the_new_one) {
    press self;
    memset(&self, 0, sizeof self);
    open_folder();
    snprintf(self.path, sizeof self.path, "%s", path_of("file"));
    ck_assert_status(mtask_file_save(self.path, "\0", 0), MTASK_OK);
    save_and_load(self.path, 5);
    run_both(save_again, &self, load_again, &self, IN_LOOPS);
    ck_assert_int_gt(self.loads, 0);
    ck_assert_int_eq(count_files(false), 1);
    end_folder();
}
END_TEST

/* Opens one end of a FIFO: that waits for the other end. */
static void *open_fifo_to_read(void *arg) {
    int fd = -2;
    char text[4];
    size_t count;
    ck_assert_status(mtask_file_open(&fd, (const char *)arg, O_RDONLY, 0), MTASK_OK);
    mtask_shield_begin();
    ck_assert_status(mtask_io_read(fd, text, sizeof text, &count, LONG), MTASK_OK);
    mtask_shield_end();
    testing_check(count == 1 && text[0] == 'f');
    end_fd(fd);
    return arg;
}

static void *open_fifo_from_both_ends(void *arg) {
    mtask_future *future = go(open_fifo_to_read, arg);
    int fd = -2;
    ck_assert_status(mtask_sleep(MTASK_MS(1)), MTASK_OK);
    ck_assert_status(mtask_future_cancel(future), MTASK_OK); /* it does not care */
    ck_assert_status(mtask_sleep(MTASK_MS(1)), MTASK_OK);
    ck_assert(!mtask_future_done(future));
    ck_assert_status(mtask_file_open(&fd, (const char *)arg, O_WRONLY, 0), MTASK_OK);
    ck_assert_status(mtask_io_write(fd, "f", 1, NULL, LONG), MTASK_OK);
    (void)take(future);
    end_fd(fd);
    return arg;
}

START_TEST(opening_may_take_long_and_is_not_cut_short) {
    char path[320];
    open_folder();
    snprintf(path, sizeof path, "%s", path_of("fifo"));
    testing_check(mkfifo(path, 0600) == 0);
    (void)in_loop(open_fifo_from_both_ends, path);
    end_folder();
}
END_TEST

/* ---- signals ---- */

static mtask_signals *catch_signals(int first, int second) {
    int numbers[2] = {first, second};
    mtask_signals *signals = NULL;
    ck_assert_status(mtask_signals_create(&signals, numbers, second != 0 ? 2 : 1), MTASK_OK);
    testing_check(signals != NULL);
    return signals;
}

/* Waits for a signal, which must be this one. */
static void await_signal(mtask_signals *signals, int expected) {
    int number = 0;
    ck_assert_status(mtask_signals_wait(signals, &number, LONG), MTASK_OK);
    ck_assert_int_eq(number, expected);
}

/* Fails the test if a signal has come. */
static void check_no_signal(mtask_signals *signals) {
    int number = 0;
    ck_assert_status(mtask_signals_wait(signals, &number, MTASK_NOWAIT), MTASK_TIMEOUT);
}

/* Sends a signal to this process, any thread of it; with ThreadSanitizer to the calling thread, for
   it lets handlers wait until the thread calls something that it knows. */
static void send_signal(int number) {
    testing_check((TESTING_TSAN ? raise(number) : kill(getpid(), number)) == 0);
}

static void *raise_from_thread(void *arg) {
    testing_pause(2);
    send_signal((int)(long)arg);
    return arg;
}

static void raise_later(int number, pthread_t *thread) {
    testing_check(pthread_create(thread, NULL, raise_from_thread, (void *)(long)number) == 0);
}

static void *catch_some(void *arg) {
    mtask_signals *signals = catch_signals(SIGUSR1, SIGUSR2);
    pthread_t thread;
    int number = 0;
    check_no_signal(signals);
    raise(SIGUSR1);
    await_signal(signals, SIGUSR1);
    check_no_signal(signals);
    raise_later(SIGUSR2, &thread);
    await_signal(signals, SIGUSR2);
    pthread_join(thread, NULL);
    for (int i = 0; i < 5; i++)
        raise(SIGUSR2);
    await_signal(signals, SIGUSR2); /* told of once */
    check_no_signal(signals);
    raise(SIGUSR1);
    raise(SIGUSR2);
    ck_assert_status(mtask_signals_wait(signals, &number, MTASK_NOWAIT), MTASK_OK);
    testing_check(number == SIGUSR1 || number == SIGUSR2);
    await_signal(signals, number == SIGUSR1 ? SIGUSR2 : SIGUSR1);
    check_no_signal(signals);
    mtask_signals_destroy(signals);
    return arg;
}

START_TEST(signals_are_waited_for) {
    everywhere(catch_some, NULL);
    mtask_signals_destroy(NULL);
}
END_TEST

static void *take_turns_then_raise(void *arg) {
    long *turns = (long *)arg;
    for (; *turns < 5; ++*turns)
        ck_assert_status(mtask_sleep(MTASK_US(100)), MTASK_OK);
    raise(SIGUSR1);
    return arg;
}

static void *go_on_beside_signals(void *arg) {
    mtask_signals *signals = catch_signals(SIGUSR1, 0);
    long turns = 0;
    mtask_future *future = go(take_turns_then_raise, &turns);
    await_signal(signals, SIGUSR1);
    ck_assert_int_eq(turns, 5);
    (void)take(future);
    mtask_signals_destroy(signals);
    return arg;
}

START_TEST(the_other_tasks_go_on_while_one_waits_for_signals) {
    (void)in_loop(go_on_beside_signals, NULL);
}
END_TEST

static void *catch_twice(void *arg) {
    mtask_signals *one = catch_signals(SIGUSR1, 0), *two = catch_signals(SIGUSR1, SIGUSR2);
    raise(SIGUSR1);
    await_signal(two, SIGUSR1);
    await_signal(one, SIGUSR1);
    raise(SIGUSR2);
    await_signal(two, SIGUSR2);
    check_no_signal(one);
    mtask_signals_destroy(one);
    raise(SIGUSR1);
    await_signal(two, SIGUSR1);
    mtask_signals_destroy(two);
    return arg;
}

START_TEST(several_catch_the_same_signal) {
    everywhere(catch_twice, NULL);
}
END_TEST

static mtask_word own_calls;

static void own_handler(int number) {
    (void)number;
    (void)mtask_word_add(&own_calls, 1);
}

static void *catch_meanwhile(void *arg) {
    mtask_signals *one = catch_signals(SIGUSR1, SIGUSR2), *two = catch_signals(SIGUSR1, 0);
    raise(SIGUSR1);
    raise(SIGUSR2);
    mtask_signals_destroy(one);
    raise(SIGUSR1);
    await_signal(two, SIGUSR1);
    ck_assert_uint_eq(mtask_word_load(&own_calls), 0);
    mtask_signals_destroy(two); /* with one that nobody was told of, perhaps */
    raise(SIGUSR1);
    ck_assert_uint_eq(mtask_word_load(&own_calls), 1);
    mtask_word_store(&own_calls, 0);
    return arg;
}

START_TEST(signals_do_afterwards_what_they_did_before) {
    struct sigaction mine, found;
    memset(&mine, 0, sizeof mine);
    mine.sa_handler = own_handler;
    testing_check(sigaction(SIGUSR1, &mine, NULL) == 0);
    testing_check(signal(SIGUSR2, SIG_IGN) != SIG_ERR);
    for (int i = 0; i < 3; i++)
        everywhere(catch_meanwhile, NULL);
    testing_check(sigaction(SIGUSR2, NULL, &found) == 0 && found.sa_handler == SIG_IGN);
    testing_check(sigaction(SIGUSR1, NULL, &found) == 0 && found.sa_handler == own_handler);
}
END_TEST

START_TEST(signals_that_cannot_be_caught_are_refused) {
    static const int bad[] = {0, -1, SIGKILL, SIGSTOP, 65, 128, 1000000, INT32_MAX, INT32_MIN};
    mtask_signals *signals;
    int numbers[2] = {SIGUSR1, 0};
    struct sigaction found;
    for (long i = 0; i < COUNT_OF(bad); i++) {
        ck_assert_status(mtask_signals_create(&signals, &bad[i], 1), MTASK_INVALID);
        numbers[1] = bad[i];
        ck_assert_status(mtask_signals_create(&signals, numbers, 2), MTASK_INVALID);
    }
    ck_assert_status(mtask_signals_create(&signals, numbers, 0), MTASK_INVALID);
    ck_assert_status(mtask_signals_create(&signals, NULL, 0), MTASK_INVALID);
    testing_check(sigaction(SIGUSR1, NULL, &found) == 0 && found.sa_handler == SIG_DFL);
}
END_TEST

START_TEST(so_many_may_catch_signals_and_no_more) {
    mtask_signals *all[64], *another = NULL;
    int number = SIGUSR1;
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < 64; i++)
            all[i] = catch_signals(SIGUSR1, 0);
        ck_assert_status(mtask_signals_create(&another, &number, 1), MTASK_FULL);
        raise(SIGUSR1);
        for (int i = 0; i < 64; i++)
            await_signal(all[i], SIGUSR1);
        mtask_signals_destroy(all[13]);
        all[13] = catch_signals(SIGUSR2, 0);
        raise(SIGUSR2);
        await_signal(all[13], SIGUSR2);
        for (int i = 0; i < 64; i++)
            mtask_signals_destroy(all[i]);
    }
}
END_TEST

START_TEST(real_time_signals_are_caught_too) {
    mtask_signals *signals = catch_signals(SIGRTMIN, SIGRTMAX);
    raise(SIGRTMAX);
    await_signal(signals, SIGRTMAX);
    raise(SIGRTMIN);
    await_signal(signals, SIGRTMIN);
    mtask_signals_destroy(signals);
}
END_TEST

static void *wait_in_vain(void *arg) {
    mtask_signals *signals = catch_signals(SIGUSR1, 0);
    int64_t start = mtask_now();
    int number;
    ck_assert_status(mtask_signals_wait(signals, &number, MTASK_MS(2)), MTASK_TIMEOUT);
    testing_check(mtask_now() - start >= MTASK_MS(2));
    ck_assert_status(mtask_signals_wait(signals, &number, -1), MTASK_INVALID);
    raise(SIGUSR1);
    await_signal(signals, SIGUSR1);
    mtask_signals_destroy(signals);
    return arg;
}

START_TEST(the_wait_for_a_signal_times_out) {
    everywhere(wait_in_vain, NULL);
}
END_TEST

static void *wait_until_cancelled(void *arg) {
    int number;
    ck_assert_status(mtask_signals_wait((mtask_signals *)arg, &number, LONG), MTASK_CANCELED);
    return arg;
}

static void wait_there(void *arg) {
    int number;
    ck_assert_status(mtask_signals_wait((mtask_signals *)arg, &number, LONG), MTASK_DEADLOCK);
}

static void *cancel_waits(void *arg) {
    mtask_signals *signals = catch_signals(SIGUSR1, 0);
    mtask_future *future = go(wait_until_cancelled, signals);
    take_turns();
    ck_assert_status(mtask_future_cancel(future), MTASK_OK);
    (void)take(future);
    ck_assert_status(mtask_with_timeout(MTASK_MS(1), wait_until_cancelled, signals, NULL),
                     MTASK_TIMEOUT);
    on_the_loop(wait_there, signals);
    raise(SIGUSR1);
    await_signal(signals, SIGUSR1);
    mtask_signals_destroy(signals);
    return arg;
}

START_TEST(the_wait_for_a_signal_can_be_cancelled) {
    (void)in_loop(cancel_waits, NULL);
}
END_TEST

static void *signal_from_child(void *arg) {
    mtask_signals *signals = catch_signals(SIGUSR1, 0);
    pid_t parent = getpid(), pid = fork_child();
    if (pid == 0)
        _exit(kill(parent, SIGUSR1) != 0);
    await_signal(signals, SIGUSR1);
    await_child(pid);
    mtask_signals_destroy(signals);
    return arg;
}

START_TEST(another_process_sends_a_signal) {
    (void)in_thread(signal_from_child, NULL);
    if (!TESTING_TSAN) /* see send_signal */
        (void)in_loop(signal_from_child, NULL);
}
END_TEST

/* In a child signals do what they did before; it may catch signals of its own. */
static void catch_in_child(void) {
    int number = SIGUSR1;
    mtask_signals *signals;
    struct sigaction found;
    IN_CHILD(sigaction(SIGUSR1, NULL, &found) == 0 && found.sa_handler == own_handler);
    if (CHILD_IS_CRIPPLED)
        _exit(0);
    raise(SIGUSR1);
    IN_CHILD(mtask_word_load(&own_calls) == 1);
    IN_CHILD(mtask_signals_create(&signals, &number, 1) == MTASK_OK);
    raise(SIGUSR1);
    number = 0;
    IN_CHILD(mtask_signals_wait(signals, &number, MTASK_FOREVER) == MTASK_OK);
    IN_CHILD(number == SIGUSR1);
    mtask_signals_destroy(signals);
    _exit(0);
}

static void *fork_while_catching(void *arg) {
    mtask_signals *signals = catch_signals(SIGUSR1, 0);
    pid_t pid = fork_child();
    int number;
    if (pid == 0)
        catch_in_child();
    await_child(pid);
    ck_assert_status(mtask_signals_wait(signals, &number, MTASK_MS(2)), MTASK_TIMEOUT);
    raise(SIGUSR1);
    await_signal(signals, SIGUSR1);
    mtask_signals_destroy(signals);
    return arg;
}

START_TEST(a_signal_of_a_child_is_none_of_its_parent) {
    testing_check(signal(SIGUSR1, own_handler) != SIG_ERR);
    everywhere(fork_while_catching, NULL);
}
END_TEST

/* A thread that sends signals, each when the last one was told of; or as fast as it can. */
typedef struct storm {
    mtask_word sent;
    mtask_word told;
    mtask_word over;
    long rounds;
} storm;

static void *send_and_await(void *arg) {
    storm *self = (storm *)arg;
    for (long i = 1; i <= self->rounds; i++) {
        mtask_word_store(&self->sent, (mtask_word)i);
        send_signal(i % 2 == 0 ? SIGUSR1 : SIGUSR2);
        while (mtask_word_load(&self->told) != (mtask_word)i)
            sched_yield();
    }
    return arg;
}

static void *miss_no_signal(void *arg) {
    storm *self = (storm *)arg;
    mtask_signals *signals = catch_signals(SIGUSR1, SIGUSR2);
    pthread_t thread;
    testing_check(pthread_create(&thread, NULL, send_and_await, self) == 0);
    for (long i = 1; i <= self->rounds; i++) {
        await_signal(signals, i % 2 == 0 ? SIGUSR1 : SIGUSR2);
        ck_assert_uint_eq(mtask_word_load(&self->sent), (mtask_word)i);
        mtask_word_store(&self->told, (mtask_word)i);
    }
    pthread_join(thread, NULL);
    mtask_signals_destroy(signals);
    return arg;
}

START_TEST(no_signal_is_lost) {
    storm self = {.rounds = testing_scale(2000)};
    everywhere(miss_no_signal, &self);
}
END_TEST

static void *send_fast(void *arg) {
    storm *self = (storm *)arg;
    for (long i = self->rounds; i > 0; i--)
        send_signal(i % 2 == 0 ? SIGUSR1 : SIGUSR2);
    mtask_word_store(&self->over, 1);
    return arg;
}

static void *stand_the_storm(void *arg) {
    storm *self = (storm *)arg;
    mtask_signals *signals = catch_signals(SIGUSR1, SIGUSR2);
    pthread_t thread;
    int number = 0;
    long told = 0;
    mtask_word_store(&self->over, 0);
    testing_check(pthread_create(&thread, NULL, send_fast, self) == 0);
    while (mtask_word_load(&self->over) == 0) {
        mtask_status status = mtask_signals_wait(signals, &number, MTASK_US(200));
        testing_check(status == MTASK_OK || status == MTASK_TIMEOUT);
        told += status == MTASK_OK;
    }
    pthread_join(thread, NULL);
    testing_check(told <= self->rounds);
    while (mtask_signals_wait(signals, &number, MTASK_MS(1)) == MTASK_OK)
        told++; /* what is left of the storm */
    ck_assert_int_gt(told, 0);
    raise(SIGUSR1);
    await_signal(signals, SIGUSR1);
    check_no_signal(signals);
    mtask_signals_destroy(signals);
    return arg;
}

START_TEST(a_storm_of_signals_passes) {
    storm self = {.rounds = testing_scale(20000)};
    everywhere(stand_the_storm, &self);
}
END_TEST

/* Objects that come and go while signals arrive. */
static void *catch_for_a_moment(void *arg) {
    storm *self = (storm *)arg;
    for (int i = 0; mtask_word_load(&self->over) == 0; i++) {
        mtask_signals *signals = catch_signals(SIGUSR1, i % 2 != 0 ? SIGUSR2 : 0);
        int number;
        mtask_status status = mtask_signals_wait(signals, &number, MTASK_US(20));
        testing_check(status == MTASK_OK || status == MTASK_TIMEOUT);
        mtask_signals_destroy(signals);
    }
    return arg;
}

START_TEST(signals_may_arrive_while_others_begin_and_cease_to_wait) {
    storm self = {.rounds = testing_scale(10000)};
    pthread_t thread;
    testing_check(signal(SIGUSR1, own_handler) != SIG_ERR);
    testing_check(signal(SIGUSR2, own_handler) != SIG_ERR);
    testing_check(pthread_create(&thread, NULL, send_fast, &self) == 0);
    run_both(catch_for_a_moment, &self, catch_for_a_moment, &self, TASK_AND_THREAD);
    pthread_join(thread, NULL);
}
END_TEST

/* ---- children ---- */

static int gate[2]; /* children wait at it until its second end is closed */

static void open_gate(void) {
    plain_pipe(gate);
}

/* Starts a child that waits at the gate, if it is to, and then exits. */
static pid_t start_child(bool waits, int code) {
    pid_t pid = fork_child();
    char byte;
    if (pid != 0)
        return pid;
    if (waits) {
        close(gate[1]);
        while (read(gate[0], &byte, 1) < 0 && errno == EINTR) {
        }
    }
    _exit(code);
}

/* Returns when the child has ended, and nobody has taken note of that. */
static void await_zombie(pid_t pid) {
    siginfo_t info;
    testing_check(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT) == 0);
}

/* Fails the test unless the child ends in this way. */
static void check_exit(pid_t pid, int code) {
    int status = 0;
    ck_assert_status(mtask_child_wait(pid, &status, LONG), MTASK_OK);
    testing_check(WIFEXITED(status));
    ck_assert_int_eq(WEXITSTATUS(status), code);
}

static void *await_children(void *arg) {
    pid_t pid, other;
    int status = 0;
    check_exit(start_child(false, 7), 7);
    check_exit(start_child(false, 0), 0);
    open_gate();
    pid = start_child(true, 0);
    testing_check(kill(pid, SIGKILL) == 0);
    ck_assert_status(mtask_child_wait(pid, &status, LONG), MTASK_OK);
    testing_check(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    pid = start_child(false, 1);
    other = start_child(true, 2);
    await_zombie(pid);
    ck_assert_status(mtask_child_wait(pid, NULL, LONG), MTASK_OK);
    close(gate[1]);
    check_exit(other, 2);
    close(gate[0]);
    return arg;
}

START_TEST(children_are_waited_for) {
    everywhere(await_children, NULL);
}
END_TEST

static void *await_no_child(void *arg) {
    pid_t pid = start_child(false, 0);
    int status = 77;
    check_exit(pid, 0);
    ck_assert_status(mtask_child_wait(pid, &status, LONG), MTASK_NOT_FOUND); /* it is gone */
    ck_assert_status(mtask_child_wait(getpid(), &status, LONG), MTASK_NOT_FOUND);
    ck_assert_status(mtask_child_wait(1, &status, LONG), MTASK_NOT_FOUND);
    ck_assert_status(mtask_child_wait(INT32_MAX, &status, LONG), MTASK_NOT_FOUND);
    ck_assert_status(mtask_child_wait(0, &status, LONG), MTASK_INVALID);
    ck_assert_status(mtask_child_wait(-1, &status, LONG), MTASK_INVALID);
    ck_assert_status(mtask_child_wait(INT32_MIN, &status, LONG), MTASK_INVALID);
    ck_assert_status(mtask_child_wait(1, &status, -1), MTASK_INVALID);
    testing_check(waitpid(-1, &status, WNOHANG) < 0 && errno == ECHILD);
    return arg;
}

START_TEST(only_children_are_waited_for) {
    everywhere(await_no_child, NULL);
}
END_TEST

static void *await_child_in_vain(void *arg) {
    int64_t start = mtask_now();
    int before = count_fds(), status = 77;
    pid_t pid;
    open_gate();
    pid = start_child(true, 5);
    ck_assert_status(mtask_child_wait(pid, &status, MTASK_NOWAIT), MTASK_TIMEOUT);
    ck_assert_status(mtask_child_wait(pid, &status, MTASK_MS(2)), MTASK_TIMEOUT);
    testing_check(mtask_now() - start >= MTASK_MS(2));
    testing_check(kill(pid, SIGSTOP) == 0); /* that is not its end */
    ck_assert_status(mtask_child_wait(pid, &status, MTASK_MS(2)), MTASK_TIMEOUT);
    ck_assert_int_eq(status, 77);
    testing_check(kill(pid, SIGCONT) == 0);
    end_plain(gate);
    check_exit(pid, 5);
    ck_assert_int_eq(count_fds(), before);
    return arg;
}

START_TEST(the_wait_for_a_child_times_out_and_can_be_begun_again) {
    (void)await_children(NULL); /* what a first wait opens is open before we count */
    everywhere(await_child_in_vain, NULL);
}
END_TEST

static void *await_until_cancelled(void *arg) {
    ck_assert_status(mtask_child_wait(*(pid_t *)arg, NULL, LONG), MTASK_CANCELED);
    return arg;
}

static void await_there(void *arg) {
    ck_assert_status(mtask_child_wait(*(pid_t *)arg, NULL, LONG), MTASK_DEADLOCK);
}

static void *cancel_children(void *arg) {
    mtask_future *future;
    pid_t pid;
    open_gate();
    pid = start_child(true, 5);
    future = go(await_until_cancelled, &pid);
    ck_assert_status(mtask_sleep(MTASK_MS(1)), MTASK_OK);
    ck_assert_status(mtask_future_cancel(future), MTASK_OK);
    (void)take(future);
    ck_assert_status(mtask_with_timeout(MTASK_MS(1), await_until_cancelled, &pid, NULL),
                     MTASK_TIMEOUT);
    on_the_loop(await_there, &pid);
    end_plain(gate);
    check_exit(pid, 5);
    return arg;
}

START_TEST(the_wait_for_a_child_can_be_cancelled) {
    (void)in_loop(cancel_children, NULL);
}
END_TEST

/* One of many children, and who waits for it. */
typedef struct family_member {
    pid_t pid;
    int code;
} family_member;

static void *await_member(void *arg) {
    family_member *self = (family_member *)arg;
    check_exit(self->pid, self->code);
    return arg;
}

static void *await_family(void *arg) {
    family_member family[24];
    mtask_future *futures[24];
    open_gate();
    for (int i = 0; i < 24; i++) {
        family[i].pid = start_child(i % 3 != 0, i);
        family[i].code = i;
        futures[i] = go(await_member, &family[i]);
    }
    ck_assert_status(mtask_sleep(MTASK_MS(2)), MTASK_OK);
    end_plain(gate);
    for (int i = 23; i >= 0; i--)
        (void)take(futures[i]);
    testing_check(waitpid(-1, NULL, WNOHANG) < 0 && errno == ECHILD);
    return arg;
}

START_TEST(many_children_are_waited_for_at_once) {
    (void)in_loop(await_family, NULL);
}
END_TEST

/* Where nobody wants to know of children, the system forgets them. */
static void *await_forgotten(void *arg) {
    pid_t pid;
    mtask_status status;
    open_gate();
    pid = start_child(true, 5);
    ck_assert_status(mtask_child_wait(pid, NULL, MTASK_MS(1)), MTASK_TIMEOUT);
    end_plain(gate);
    status = mtask_child_wait(pid, NULL, LONG);
    ck_assert_status(status, MTASK_NOT_FOUND);
    return arg;
}

START_TEST(a_child_that_the_system_forgets_is_not_waited_for_for_ever) {
    testing_check(signal(SIGCHLD, SIG_IGN) != SIG_ERR);
    everywhere(await_forgotten, NULL);
}
END_TEST

static void *await_child_and_signal(void *arg) {
    mtask_signals *signals = catch_signals(SIGCHLD, SIGUSR1);
    check_exit(start_child(false, 3), 3);
    await_signal(signals, SIGCHLD);
    mtask_signals_destroy(signals);
    return arg;
}

START_TEST(the_signal_of_a_childs_end_is_still_the_programs) {
    everywhere(await_child_and_signal, NULL);
}
END_TEST

TESTING_MAIN(
    "offload", the_other_tasks_go_on_while_one_waits_for_a_function,
    outside_of_a_loop_the_function_is_just_called, the_caller_learns_how_the_function_ended,
    cancellation_does_not_end_the_wait_for_a_function, a_limit_does_not_end_the_wait_for_a_function,
    a_task_that_is_cancelled_may_still_offload,
    many_functions_run_at_once_but_no_more_than_there_are_threads,
    functions_for_which_there_is_no_thread_wait_for_one,
    an_offloaded_function_may_run_a_loop_and_a_coroutine_may_offload, no_errno_comes_out_of_nowhere,
    what_a_function_does_to_its_copy_comes_back, a_function_that_takes_too_long_goes_on_alone,
    a_function_left_behind_needs_no_drop, the_wait_for_a_copy_can_be_cancelled,
    a_function_that_is_given_up_before_it_began_is_dropped_once,
    a_copy_comes_back_from_a_function_that_fails_too, there_may_be_nothing_to_copy,
    the_loop_itself_does_not_wait_for_a_function, waiting_for_a_function_is_no_dead_lock,
    a_function_ends_in_time_or_is_dropped_never_both, a_child_has_threads_of_its_own,
    a_file_is_opened_or_not, a_file_may_be_forbidden, a_file_is_read_from_anywhere,
    what_cannot_be_read_from_anywhere_is_refused, a_file_is_written_anywhere,
    writing_to_a_full_disk_is_told_of, whole_files_are_saved_and_loaded,
    a_big_file_is_saved_and_loaded, files_that_cannot_be_loaded_or_saved_are_told_of,
    a_file_that_is_longer_than_it_says_is_loaded, a_new_file_may_be_read_by_whom_the_mask_admits,
    who_loads_a_file_that_is_being_saved_sees_the_old_or_the_new_one,
    opening_may_take_long_and_is_not_cut_short, signals_are_waited_for,
    the_other_tasks_go_on_while_one_waits_for_signals, several_catch_the_same_signal,
    signals_do_afterwards_what_they_did_before, signals_that_cannot_be_caught_are_refused,
    so_many_may_catch_signals_and_no_more, real_time_signals_are_caught_too,
    the_wait_for_a_signal_times_out, the_wait_for_a_signal_can_be_cancelled,
    another_process_sends_a_signal, a_signal_of_a_child_is_none_of_its_parent, no_signal_is_lost,
    a_storm_of_signals_passes, signals_may_arrive_while_others_begin_and_cease_to_wait,
    children_are_waited_for, only_children_are_waited_for,
    the_wait_for_a_child_times_out_and_can_be_begun_again, the_wait_for_a_child_can_be_cancelled,
    many_children_are_waited_for_at_once,
    a_child_that_the_system_forgets_is_not_waited_for_for_ever,
    the_signal_of_a_childs_end_is_still_the_programs)
