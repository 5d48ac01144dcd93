/* test_mtask_loop.c - event loops: tasks that take turns, their timers, futures and numbers; posted
   calls; loops inside other loops; dead-locks found; what a loop says of its tasks */
#include "testing_coro.h"

#include "../mtask_pool.h"

#include <errno.h>
#include <poll.h>
#include <sys/wait.h>

#ifdef __linux__
# include <sys/epoll.h>
#endif

/* Whether the descriptor of a loop tells of timers. */
#if defined(MTASK_LOOP_POLL) || defined(MTASK_FORCE_POSIX)
enum { FD_TELLS_OF_TIMERS = 0 };
#else
enum { FD_TELLS_OF_TIMERS = 1 };
#endif

/* ThreadSanitizer would otherwise end a child of a threaded process that starts a thread. */
const char *__tsan_default_options(void);
const char *__tsan_default_options(void) {
    return "die_after_fork=0:report_thread_leaks=0";
}

/* Longer than any test takes: what ends such a wait is not the time. */
#define LONG MTASK_SEC(100000)

#define COUNT_OF(array) ((long)(sizeof(array) / sizeof(array)[0]))

/* ---- what the tests run as tasks ---- */

/* Letters that tasks leave behind, in the order in which they came by. */
typedef struct trail {
    char text[256];
    size_t length;
} trail;

static trail steps;

static void step(char letter) {
    testing_check(steps.length + 1 < sizeof steps.text);
    steps.text[steps.length++] = letter;
}

/* Fails the test unless the steps since the last look were these. */
static void check_steps(const char *expected) {
    steps.text[steps.length] = '\0';
    ck_assert_str_eq(steps.text, expected);
    steps.length = 0;
}

static void *return_arg(void *arg) {
    return arg;
}

static void *fail_to_find(void *arg) {
    return mtask_fail(MTASK_NOT_FOUND, "there is no %s", (const char *)arg);
}

/* Adds one to a long. */
static void *count_up(void *arg) {
    ++*(long *)arg;
    return arg;
}

/* Leaves the letter that it is given. */
static void *leave_letter(void *arg) {
    step(*(const char *)arg);
    return arg;
}

/* Leaves the letter three times, and each time lets the others go first. */
static void *leave_letters(void *arg) {
    for (int i = 0; i < 3; i++) {
        step(*(const char *)arg);
        take_turns();
    }
    return arg;
}

static void *sleep_long(void *arg) {
    ck_assert_status(mtask_sleep(LONG), MTASK_CANCELED);
    return arg;
}

static void *wait_event(void *arg) {
    ck_assert_status(mtask_event_wait((mtask_event *)arg, LONG), MTASK_OK);
    return arg;
}

static void *wait_for_ever(void *arg) {
    return (void *)(long)mtask_event_wait((mtask_event *)arg, MTASK_FOREVER);
}

static void *set_event(void *arg) {
    mtask_event_set((mtask_event *)arg);
    return arg;
}

/* Starts a task that nobody waits for. */
static void go_alone(mtask_fn fn, void *arg) {
    ck_assert_status(mtask_go(fn, arg, NULL), MTASK_OK);
}

/* Starts a task that runs at once. */
static void go_now(mtask_fn fn, void *arg) {
    mtask_go_desc desc = {.fn = fn, .arg = arg, .now = true};
    ck_assert_status(mtask_go_ex(&desc), MTASK_OK);
}

static void start_thread(mtask_thread *thread, mtask_fn fn, void *arg) {
    memset(thread, 0, sizeof *thread);
    ck_assert_status(mtask_thread_start(thread, fn, arg), MTASK_OK);
}

static void join_thread(mtask_thread *thread) {
    ck_assert_status(mtask_thread_join(thread, NULL, MTASK_FOREVER), MTASK_OK);
}

/* ---- run ---- */

START_TEST(run_returns_what_its_function_returns) {
    mtask_outcome outcome;
    memset(&outcome, 0xA5, sizeof outcome);
    ck_assert_status(mtask_loop_run(return_arg, &outcome, &outcome), MTASK_OK);
    ck_assert_status(outcome.status, MTASK_OK);
    ck_assert_ptr_eq(outcome.value, &outcome);
    ck_assert_str_eq(outcome.text, "");
    ck_assert_status(mtask_loop_run(return_arg, NULL, NULL), MTASK_OK);
    ck_assert_status(mtask_loop_run_ex(return_arg, NULL, NULL, NULL), MTASK_OK);
}
END_TEST

static void *fail_after_a_wait(void *arg) {
    ck_assert_status(mtask_sleep(MTASK_US(100)), MTASK_OK);
    return fail_to_find(arg);
}

START_TEST(run_tells_how_its_function_failed) {
    const mtask_fn fns[] = {fail_to_find, fail_after_a_wait};
    char word[] = "answer";
    for (long i = 0; i < COUNT_OF(fns); i++) {
        mtask_outcome outcome;
        memset(&outcome, 0xA5, sizeof outcome);
        ck_assert_status(mtask_loop_run(fns[i], word, &outcome), MTASK_FAILED);
        ck_assert_status(outcome.status, MTASK_NOT_FOUND);
        ck_assert_ptr_null(outcome.value);
        ck_assert_str_eq(outcome.text, "there is no answer");
        ck_assert_status(mtask_loop_run(fns[i], word, NULL), MTASK_FAILED);
    }
}
END_TEST

static void refuse_a_second_loop(void *arg) {
    mtask_loop *loop = NULL;
    ck_assert_status(mtask_loop_run(count_up, arg, NULL), MTASK_INVALID);
    ck_assert_status(mtask_loop_run_ex(count_up, arg, NULL, NULL), MTASK_INVALID);
    ck_assert_status(mtask_loop_create(&loop, NULL), MTASK_INVALID);
}

static void *try_a_second_loop(void *arg) {
    refuse_a_second_loop(arg);
    return arg;
}

static void *try_a_second_loop_everywhere(void *arg) {
    mtask_coro *coro = open_coro(try_a_second_loop, arg);
    mtask_loop_call call = {.fn = refuse_a_second_loop, .arg = arg};
    refuse_a_second_loop(arg);
    ck_assert_status(mtask_coro_resume(coro, NULL, NULL), MTASK_DONE);
    end_coro(coro);
    ck_assert_status(mtask_loop_post(mtask_loop_current(), &call), MTASK_OK);
    while (__atomic_load_n(&call.posted, __ATOMIC_ACQUIRE) != 0)
        ck_assert_status(mtask_yield(), MTASK_OK); /* it lies on this stack */
    return take(go(try_a_second_loop, arg));
}

START_TEST(a_thread_runs_one_loop_at_a_time) {
    long runs = 0;
    for (int i = 0; i < 3; i++)
        ck_assert_ptr_eq(in_loop(try_a_second_loop_everywhere, &runs), &runs);
    ck_assert_int_eq(runs, 0);
    ck_assert_status(mtask_loop_run(NULL, NULL, NULL), MTASK_INVALID);
    ck_assert_ptr_eq(in_loop(count_up, &runs), &runs);
    ck_assert_int_eq(runs, 1);
}
END_TEST

static void *find_the_loop(void *arg) {
    mtask_loop **found = (mtask_loop **)arg;
    *found = mtask_loop_current();
    return arg;
}

static void *find_the_loop_everywhere(void *arg) {
    mtask_loop *here = mtask_loop_current(), *found = NULL;
    mtask_coro *coro = open_coro(find_the_loop, &found);
    testing_check(here != NULL);
    ck_assert_status(mtask_coro_resume(coro, NULL, NULL), MTASK_DONE);
    end_coro(coro);
    ck_assert_ptr_eq(found, here);
    found = NULL;
    (void)take(go(find_the_loop, &found));
    ck_assert_ptr_eq(found, here);
    return arg;
}

START_TEST(a_task_finds_its_loop) {
    ck_assert_ptr_null(mtask_loop_current());
    (void)in_loop(find_the_loop_everywhere, NULL);
    ck_assert_ptr_null(mtask_loop_current());
}
END_TEST

START_TEST(without_a_loop_no_task_can_be_started) {
    long runs = 0;
    mtask_future *future = NULL;
    mtask_go_desc desc = {.fn = count_up, .arg = &runs};
    ck_assert_status(mtask_go(count_up, &runs, NULL), MTASK_INVALID);
    ck_assert_status(mtask_go(count_up, &runs, &future), MTASK_INVALID);
    ck_assert_status(mtask_go_ex(&desc), MTASK_INVALID);
    ck_assert_status(mtask_yield(), MTASK_OK);
    ck_assert(!mtask_canceled());
    mtask_shield_begin(); /* no effect */
    mtask_shield_end();
    ck_assert_int_eq(runs, 0);
}
END_TEST

static void *start_nothing(void *arg) {
    mtask_go_desc desc = {.arg = arg};
    ck_assert_status(mtask_go(NULL, arg, NULL), MTASK_INVALID);
    ck_assert_status(mtask_go_ex(&desc), MTASK_INVALID);
    ck_assert_status(mtask_loop_go(mtask_loop_current(), NULL, arg, NULL), MTASK_INVALID);
    return arg;
}

START_TEST(a_task_needs_a_function) {
    (void)in_loop(start_nothing, NULL);
}
END_TEST

/* ---- the end of a loop ---- */

static void *sleep_and_clean_up(void *arg) {
    long *cleaned = (long *)arg;
    ck_assert_status(mtask_sleep(LONG), MTASK_CANCELED);
    mtask_shield_begin();
    for (int i = 0; i < 3; i++)
        ck_assert_status(mtask_sleep(MTASK_US(300)), MTASK_OK);
    mtask_shield_end();
    ck_assert_status(mtask_sleep(LONG), MTASK_CANCELED);
    ++*cleaned;
    return arg;
}

static void *leave_five_behind(void *arg) {
    for (int i = 0; i < 5; i++)
        go_alone(sleep_and_clean_up, arg);
    take_turns();
    ck_assert_int_eq(*(long *)arg, 0);
    return arg;
}

static void *fail_and_leave_five_behind(void *arg) {
    char word[] = "peace";
    leave_five_behind(arg);
    return fail_to_find(word);
}

START_TEST(what_is_left_is_cancelled_and_waited_for) {
    long cleaned = 0;
    mtask_outcome outcome;
    ck_assert_ptr_eq(in_loop(leave_five_behind, &cleaned), &cleaned);
    ck_assert_int_eq(cleaned, 5);
    cleaned = 0;
    ck_assert_status(mtask_loop_run(fail_and_leave_five_behind, &cleaned, &outcome), MTASK_FAILED);
    ck_assert_str_eq(outcome.text, "there is no peace");
    ck_assert_int_eq(cleaned, 5);
}
END_TEST

static void *wait_for_thread_in_a_shield(void *arg) {
    mtask_thread thread;
    long *count = (long *)arg;
    ck_assert_status(mtask_sleep(LONG), MTASK_CANCELED);
    start_thread(&thread, count_up, count);
    mtask_shield_begin();
    join_thread(&thread);
    mtask_shield_end();
    return arg;
}

static void *leave_waiter_for_thread(void *arg) {
    go_alone(wait_for_thread_in_a_shield, arg);
    take_turns();
    return arg;
}

START_TEST(what_is_left_may_wait_for_threads_in_a_shield) {
    long count = 0;
    (void)in_loop(leave_waiter_for_thread, &count);
    ck_assert_int_eq(count, 1);
}
END_TEST

typedef struct leftovers {
    mtask_future *futures[3];
    long runs;
} leftovers;

static void *leave_unbegun(void *arg) {
    leftovers *left = (leftovers *)arg;
    for (long i = 0; i < COUNT_OF(left->futures); i++)
        left->futures[i] = go(count_up, &left->runs);
    return arg;
}

START_TEST(what_has_not_begun_when_the_loop_ends_never_runs) {
    leftovers left = {.runs = 0};
    (void)in_loop(leave_unbegun, &left);
    ck_assert_int_eq(left.runs, 0);
    for (long i = 0; i < COUNT_OF(left.futures); i++) {
        ck_assert(mtask_future_canceled(left.futures[i]));
        ck_assert_status(mtask_future_get(left.futures[i], NULL, MTASK_FOREVER), MTASK_CANCELED);
        mtask_future_release(left.futures[i]);
    }
}
END_TEST

static void *start_while_ending(void *arg) {
    mtask_future *future = NULL;
    mtask_go_desc desc = {.fn = count_up, .arg = arg, .now = true};
    ck_assert_status(mtask_sleep(LONG), MTASK_CANCELED);
    ck_assert_status(mtask_go(count_up, arg, NULL), MTASK_CLOSED);
    ck_assert_status(mtask_go(count_up, arg, &future), MTASK_CLOSED);
    ck_assert_status(mtask_go_ex(&desc), MTASK_CLOSED);
    ck_assert_status(mtask_loop_go(mtask_loop_current(), count_up, arg, NULL), MTASK_CLOSED);
    return arg;
}

static void *leave_a_starter(void *arg) {
    go_alone(start_while_ending, arg);
    take_turns();
    return arg;
}

START_TEST(a_loop_that_ends_takes_no_more_tasks) {
    long runs = 0;
    (void)in_loop(leave_a_starter, &runs);
    ck_assert_int_eq(runs, 0);
}
END_TEST

typedef struct late_start {
    mtask_loop *loop;
    long runs;
    mtask_status status;
} late_start;

static void *start_from_thread(void *arg) {
    late_start *late = (late_start *)arg;
    late->status = mtask_loop_go(late->loop, count_up, &late->runs, NULL);
    return arg;
}

static void *have_a_thread_start_late(void *arg) {
    late_start *late = (late_start *)arg;
    mtask_thread thread;
    late->loop = mtask_loop_current();
    ck_assert_status(mtask_sleep(LONG), MTASK_CANCELED);
    mtask_shield_begin();
    start_thread(&thread, start_from_thread, late);
    join_thread(&thread);
    mtask_shield_end();
    return arg;
}

static void *leave_a_late_starter(void *arg) {
    go_alone(have_a_thread_start_late, arg);
    take_turns();
    return arg;
}

START_TEST(a_loop_that_ends_takes_no_more_tasks_from_threads) {
    late_start late = {.runs = 0};
    (void)in_loop(leave_a_late_starter, &late);
    testing_check(late.status == MTASK_CLOSED || late.status == MTASK_OK);
    ck_assert_int_eq(late.runs, 0); /* in either case it never runs */
}
END_TEST

static void *cancel_all(void *arg) {
    mtask_future *asleep = go(sleep_long, NULL), *unbegun;
    take_turns();
    unbegun = go(count_up, arg);
    mtask_loop_cancel(mtask_loop_current());
    ck_assert(mtask_canceled());
    ck_assert_status(mtask_sleep(LONG), MTASK_CANCELED);
    mtask_shield_begin(); /* what begins now is not cancelled */
    (void)take(asleep);
    (void)take(go(count_up, arg));
    ck_assert_status(mtask_future_get(unbegun, NULL, LONG), MTASK_CANCELED);
    mtask_future_release(unbegun);
    mtask_shield_end();
    return arg;
}

START_TEST(all_tasks_of_a_loop_can_be_cancelled) {
    long runs = 0;
    ck_assert_ptr_eq(in_loop(cancel_all, &runs), &runs);
    ck_assert_int_eq(runs, 1);
}
END_TEST

/* ---- the order in which tasks run ---- */

static char letters[] = "abcdefghijklmnopqrstuvwxyz";

static void *start_three(void *arg) {
    for (int i = 0; i < 3; i++)
        go_alone(leave_letter, &letters[i]);
    step('M');
    take_turns();
    step('M');
    return arg;
}

START_TEST(tasks_begin_in_the_order_in_which_they_were_started) {
    (void)in_loop(start_three, NULL);
    check_steps("MabcM");
}
END_TEST

/* Starts another one behind those that wait for their turn. */
static void *leave_letter_and_start_next(void *arg) {
    go_alone(leave_letter, (char *)arg + 10);
    return leave_letter(arg);
}

static void *start_starters(void *arg) {
    for (int i = 0; i < 3; i++)
        go_alone(leave_letter_and_start_next, &letters[i]);
    take_turns();
    step('M');
    take_turns();
    return arg;
}

START_TEST(tasks_started_by_tasks_go_behind_the_others) {
    (void)in_loop(start_starters, NULL);
    check_steps("abcMklm");
}
END_TEST

static void *yield_in_turns(void *arg) {
    mtask_future *futures[3];
    for (int i = 0; i < 3; i++)
        futures[i] = go(leave_letters, &letters[i]);
    for (int i = 0; i < 3; i++)
        (void)take(futures[i]);
    return arg;
}

START_TEST(tasks_that_yield_take_turns) {
    (void)in_loop(yield_in_turns, NULL);
    check_steps("abcabcabc");
}
END_TEST

/* One who waits for an event, and leaves a letter when it has come. */
typedef struct waiter {
    mtask_event *event;
    char letter;
} waiter;

static void *wait_and_leave_letter(void *arg) {
    waiter *self = (waiter *)arg;
    (void)wait_event(self->event);
    step(self->letter);
    return arg;
}

static void *wake_in_order(void *arg) {
    mtask_event events[2] = {{0}, {0}};
    waiter waiters[3] = {{&events[0], 'a'}, {&events[0], 'b'}, {&events[1], 'c'}};
    for (int i = 0; i < 3; i++)
        go_alone(wait_and_leave_letter, &waiters[i]);
    take_turns();
    go_alone(leave_letter, &letters[10]);
    mtask_event_set(&events[1]);
    mtask_event_set(&events[0]);
    go_alone(leave_letter, &letters[11]);
    step('M');
    take_turns();
    step('M');
    return arg;
}

START_TEST(tasks_run_in_the_order_in_which_they_became_ready) {
    (void)in_loop(wake_in_order, NULL);
    check_steps("MkcablM");
}
END_TEST

static void *start_now(void *arg) {
    go_alone(leave_letter, &letters[10]);
    go_now(leave_letters, &letters[0]);
    step('M');
    go_now(leave_letter, &letters[1]);
    step('M');
    take_turns();
    step('M');
    take_turns();
    take_turns();
    take_turns();
    return arg;
}

START_TEST(a_task_may_run_at_once) {
    (void)in_loop(start_now, NULL);
    check_steps("aMbMkaMa");
}
END_TEST

static void *leave_letter_around_another(void *arg) {
    const char *letter = (const char *)arg;
    step(*letter);
    if (*letter != 'd')
        go_now(leave_letter_around_another, (char *)arg + 1);
    step(*letter);
    take_turns();
    step(*letter);
    return arg;
}

static void *start_nested_now(void *arg) {
    mtask_future *future = NULL;
    mtask_go_desc desc = {.fn = fail_to_find, .arg = letters, .future = &future, .now = true};
    go_now(leave_letter_around_another, &letters[0]);
    step('M');
    ck_assert_status(mtask_go_ex(&desc), MTASK_OK);
    ck_assert(mtask_future_done(future));
    ck_assert_status(mtask_future_get(future, NULL, MTASK_NOWAIT), MTASK_FAILED);
    mtask_future_release(future);
    take_turns();
    return arg;
}

START_TEST(tasks_that_run_at_once_may_start_others_that_do) {
    (void)in_loop(start_nested_now, NULL);
    check_steps("abcddcbaMdcba");
}
END_TEST

typedef struct stranger {
    mtask_loop *loop;
    long runs;
    mtask_status status;
} stranger;

static void *start_now_elsewhere(void *arg) {
    stranger *self = (stranger *)arg;
    mtask_go_desc desc = {.fn = count_up, .arg = &self->runs, .loop = self->loop, .now = true};
    self->status = mtask_go_ex(&desc);
    return arg;
}

static void *let_a_stranger_start_now(void *arg) {
    stranger *other = (stranger *)arg;
    mtask_thread thread;
    other->loop = mtask_loop_current();
    start_thread(&thread, start_now_elsewhere, other);
    join_thread(&thread);
    take_turns();
    return arg;
}

START_TEST(only_a_task_of_the_loop_starts_one_that_runs_at_once) {
    stranger other = {.runs = 0};
    (void)in_loop(let_a_stranger_start_now, &other);
    ck_assert_status(other.status, MTASK_INVALID);
    ck_assert_int_eq(other.runs, 0);
}
END_TEST

static void *start_many_now(void *arg) {
    long many = testing_scale(20000);
    for (long i = 0; i < many; i++)
        go_now(count_up, arg);
    ck_assert_int_eq(*(long *)arg, many);
    return arg;
}

START_TEST(many_tasks_may_run_at_once_one_after_the_other) {
    long count = 0;
    (void)in_loop(start_many_now, &count);
}
END_TEST

/* ---- fairness ---- */

/* Tasks that are ready all the time, until a word is set. */
typedef struct rush {
    mtask_loop *loop;
    mtask_word over;
    mtask_event event;
    mtask_sem balls[2];
    mtask_loop_call call;
} rush;

static void *only_yield(void *arg) {
    rush *busy = (rush *)arg;
    while (mtask_word_load(&busy->over) == 0)
        take_turns();
    return arg;
}

/* Two of them wake each other, again and again. */
static void *ping(void *arg) {
    rush *busy = (rush *)arg;
    while (mtask_word_load(&busy->over) == 0) {
        ck_assert_status(mtask_sem_release(&busy->balls[0], 1), MTASK_OK);
        ck_assert_status(mtask_sem_acquire(&busy->balls[1], LONG), MTASK_OK);
    }
    ck_assert_status(mtask_sem_release(&busy->balls[0], 1), MTASK_OK);
    return arg;
}

static void *pong(void *arg) {
    rush *busy = (rush *)arg;
    while (mtask_word_load(&busy->over) == 0) {
        ck_assert_status(mtask_sem_acquire(&busy->balls[0], LONG), MTASK_OK);
        ck_assert_status(mtask_sem_release(&busy->balls[1], 1), MTASK_OK);
    }
    return arg;
}

static void *sleep_a_little(void *arg) {
    for (int i = 0; i < 3; i++)
        ck_assert_status(mtask_sleep(MTASK_MS(1)), MTASK_OK);
    return arg;
}

static void *wait_for_the_thread(void *arg) {
    return wait_event(&((rush *)arg)->event) != NULL ? arg : NULL;
}

static void set_posted_event(void *arg) {
    mtask_event_set((mtask_event *)arg);
}

/* Comes a little later than all who are busy. */
static void *set_event_from_thread(void *arg) {
    rush *busy = (rush *)arg;
    testing_pause(2);
    mtask_event_set(&busy->event);
    return arg;
}

static void *post_from_thread(void *arg) {
    rush *busy = (rush *)arg;
    testing_pause(2);
    busy->call.fn = set_posted_event;
    busy->call.arg = &busy->event;
    ck_assert_status(mtask_loop_post(busy->loop, &busy->call), MTASK_OK);
    return arg;
}

static void *go_from_thread(void *arg) {
    rush *busy = (rush *)arg;
    testing_pause(2);
    ck_assert_status(mtask_loop_go(busy->loop, set_event, &busy->event, NULL), MTASK_OK);
    return arg;
}

/* Whom the busy tasks must not starve: each is sure to set the event in the end. */
static const mtask_fn others[] = {set_event_from_thread, post_from_thread, go_from_thread};

static void outlast(rush *busy, mtask_fn other) {
    mtask_thread thread;
    mtask_event_clear(&busy->event);
    start_thread(&thread, other, busy);
    (void)wait_for_the_thread(busy);
    join_thread(&thread);
}

/* Lets all have their turn while the tasks of the crowd are busy. */
static void *starve_nobody(void *arg) {
    rush *busy = (rush *)arg;
    busy->loop = mtask_loop_current();
    for (long i = 0; i < COUNT_OF(others); i++)
        outlast(busy, others[i]);
    (void)take(go(sleep_a_little, NULL));
    mtask_word_store(&busy->over, 1);
    return arg;
}

static void *yield_and_starve_nobody(void *arg) {
    mtask_future *futures[20];
    for (int i = 0; i < 20; i++)
        futures[i] = go(only_yield, arg);
    (void)starve_nobody(arg);
    for (int i = 0; i < 20; i++)
        (void)take(futures[i]);
    return arg;
}

static void *play_and_starve_nobody(void *arg) {
    mtask_future *players[2];
    players[0] = go(ping, arg);
    players[1] = go(pong, arg);
    (void)starve_nobody(arg);
    (void)take(players[0]);
    (void)take(players[1]);
    return arg;
}

START_TEST(tasks_that_only_yield_starve_nobody) {
    rush busy = {.over = 0};
    (void)in_loop(yield_and_starve_nobody, &busy);
}
END_TEST

START_TEST(tasks_that_wake_each_other_starve_nobody) {
    rush busy = {.over = 0};
    (void)in_loop(play_and_starve_nobody, &busy);
}
END_TEST

static void post_again(void *arg) {
    rush *busy = (rush *)arg;
    if (mtask_word_load(&busy->over) == 0)
        ck_assert_status(mtask_loop_post(busy->loop, &busy->call), MTASK_OK);
}

/* The call is posted anew whenever it is called. */
static void *post_and_starve_nobody(void *arg) {
    rush *busy = (rush *)arg;
    rush quiet = {.loop = mtask_loop_current()};
    busy->loop = mtask_loop_current();
    busy->call.fn = post_again;
    busy->call.arg = busy;
    ck_assert_status(mtask_loop_post(busy->loop, &busy->call), MTASK_OK);
    (void)starve_nobody(&quiet);
    take_turns();
    mtask_word_store(&busy->over, 1);
    return arg;
}

START_TEST(calls_that_post_themselves_starve_nobody) {
    rush busy = {.over = 0};
    (void)in_loop(post_and_starve_nobody, &busy);
}
END_TEST

/* ---- timers ---- */

/* One of several that wait until some moment. */
typedef struct sleeper {
    int64_t until;
    mtask_status expected;
    struct dormitory *all;
    long place; /* how many woke before it */
} sleeper;

typedef struct dormitory {
    long count;
    sleeper *sleepers;
    mtask_word word; /* those who are woken before their time wait on it */
    long woken;
    testing_random random;
} dormitory;

static void *sleep_until(void *arg) {
    sleeper *self = (sleeper *)arg;
    mtask_word own = 0;
    mtask_word *word = self->expected == MTASK_OK ? &self->all->word : &own;
    ck_assert_status(mtask__wait(word, 0, self->until, 0), self->expected);
    if (self->expected == MTASK_TIMEOUT)
        testing_check(mtask_now() >= self->until);
    self->place = self->all->woken++;
    return arg;
}

/* Whether all were asleep before `start`. */
static bool try_night(dormitory *all, int64_t start) {
    mtask_future **futures = calloc((size_t)all->count, sizeof *futures);
    bool in_time;
    testing_check(futures != NULL);
    for (long i = 0; i < all->count; i++)
        futures[i] = go(sleep_until, &all->sleepers[i]);
    take_turns();
    in_time = mtask_now() < start;
    mtask_word_store(&all->word, 1);
    mtask_word_wake(&all->word, INT32_MAX, 0);
    for (long i = 0; i < all->count; i++)
        (void)take(futures[i]);
    free(futures);
    return in_time;
}

/* Those whose time came did so in the order of their deadlines, and of their arrival if these are
   the same. */
static void check_order(const dormitory *all) {
    const sleeper **by_place = calloc((size_t)all->count, sizeof *by_place);
    const sleeper *last = NULL;
    testing_check(by_place != NULL);
    ck_assert_int_eq(all->woken, all->count);
    for (long i = 0; i < all->count; i++)
        by_place[all->sleepers[i].place] = &all->sleepers[i];
    for (long i = 0; i < all->count; i++) {
        if (by_place[i]->expected != MTASK_TIMEOUT)
            continue;
        testing_check(last == NULL || by_place[i]->until > last->until ||
                      (by_place[i]->until == last->until && by_place[i] > last));
        last = by_place[i];
    }
    free(by_place);
}

/* Has `count` tasks wait as planned; again, with more time to come to rest, if they were too slow. */
static void sleep_as_planned(long count, void (*plan)(dormitory *all, int64_t start)) {
    dormitory all = {.count = count, .random = testing_random_make(testing_seed(), 0)};
    int64_t start, head = MTASK_MS(5);
    all.sleepers = calloc((size_t)count, sizeof *all.sleepers);
    testing_check(all.sleepers != NULL);
    do {
        all.woken = 0;
        all.word = 0;
        head *= 2;
        start = mtask_now() + head;
        for (long i = 0; i < count; i++)
            all.sleepers[i] = (sleeper){start, MTASK_TIMEOUT, &all, -1};
        plan(&all, start);
    } while (!try_night(&all, start));
    check_order(&all);
    free(all.sleepers);
}

static void plan_disorder(dormitory *all, int64_t start) {
    static const int64_t steps_of_time[] = {5, 3, 9, 1, 7, 0, 8, 2, 6, 4};
    for (long i = 0; i < all->count; i++)
        all->sleepers[i].until = start + steps_of_time[i % 10] * MTASK_US(200);
}

static void *sleep_in_disorder(void *arg) {
    sleep_as_planned(10, plan_disorder);
    return arg;
}

START_TEST(sleepers_wake_in_the_order_of_their_deadlines) {
    (void)in_loop(sleep_in_disorder, NULL);
}
END_TEST

static void plan_nothing(dormitory *all, int64_t start) {
    (void)all;
    (void)start;
}

static void *sleep_until_the_same(void *arg) {
    sleep_as_planned(TESTING_TSAN ? 10 : 50, plan_nothing);
    return arg;
}

START_TEST(equal_deadlines_pass_in_the_order_of_arrival) {
    (void)in_loop(sleep_until_the_same, NULL);
}
END_TEST

/* Many are equal; every fourth is woken before. */
static void plan_by_chance(dormitory *all, int64_t start) {
    for (long i = 0; i < all->count; i++) {
        sleeper *one = &all->sleepers[i];
        one->until = start + (int64_t)testing_below(&all->random, 400) * MTASK_US(50);
        if (testing_below(&all->random, 4) != 0)
            continue;
        one->until += MTASK_SEC(100);
        one->expected = MTASK_OK;
    }
}

static void *sleep_by_the_thousand(void *arg) {
    sleep_as_planned(TESTING_TSAN ? 60 : testing_scale(4000), plan_by_chance);
    return arg;
}

START_TEST(thousands_of_sleepers_wake_in_order) {
    (void)in_loop(sleep_by_the_thousand, NULL);
}
END_TEST

static void *sleep_never_less(void *arg) {
    static const int64_t durations[] = {0,      1,       999,     1000,    1001,    50000,
                                        999999, 1000000, 1000001, 1500000, 2999999, 3000001};
    for (long i = 0; i < COUNT_OF(durations); i++) {
        mtask_event event = {0};
        int64_t start = mtask_now();
        ck_assert_status(mtask_sleep(durations[i]), MTASK_OK);
        ck_assert_int_ge(mtask_now() - start, durations[i]);
        start = mtask_now();
        ck_assert_status(mtask_event_wait(&event, durations[i]), MTASK_TIMEOUT);
        ck_assert_int_ge(mtask_now() - start, durations[i]);
    }
    ck_assert_status(mtask_sleep(-1), MTASK_INVALID);
    ck_assert_status(mtask_sleep(INT64_MIN), MTASK_INVALID);
    return arg;
}

START_TEST(a_deadline_never_comes_early) {
    (void)in_loop(sleep_never_less, NULL);
}
END_TEST

static void *sleep_for_ever(void *arg) {
    ck_assert_status(mtask_sleep(*(const int64_t *)arg), MTASK_CANCELED);
    return arg;
}

static void *sleep_beyond_all_times(void *arg) {
    static int64_t durations[] = {INT64_MAX, INT64_MAX - 1, INT64_MAX / 2, INT64_MAX / 1000};
    mtask_future *futures[COUNT_OF(durations)];
    for (long i = 0; i < COUNT_OF(durations); i++)
        futures[i] = go(sleep_for_ever, &durations[i]);
    for (int i = 0; i < 3; i++) /* the others do not keep it from waking */
        ck_assert_status(mtask_sleep(MTASK_MS(1)), MTASK_OK);
    for (long i = 0; i < COUNT_OF(durations); i++) {
        ck_assert(!mtask_future_done(futures[i]));
        ck_assert_status(mtask_future_cancel(futures[i]), MTASK_OK);
        (void)take(futures[i]);
    }
    return arg;
}

START_TEST(a_deadline_too_far_for_the_clock_never_comes) {
    (void)in_loop(sleep_beyond_all_times, NULL);
}
END_TEST

/* ---- loops and threads ---- */

static void *pass_balls(void *arg) {
    rush *game = (rush *)arg;
    for (long i = testing_scale(2000); i > 0; i--) {
        ck_assert_status(mtask_sem_acquire(&game->balls[0], LONG), MTASK_OK);
        ck_assert_status(mtask_sem_release(&game->balls[1], 1), MTASK_OK);
    }
    return arg;
}

static void *return_balls(void *arg) {
    rush *game = (rush *)arg;
    for (long i = testing_scale(2000); i > 0; i--) {
        ck_assert_status(mtask_sem_release(&game->balls[0], 1), MTASK_OK);
        ck_assert_status(mtask_sem_acquire(&game->balls[1], LONG), MTASK_OK);
    }
    return arg;
}

static void *play_on_own_loop(void *arg) {
    rush game = {.loop = mtask_loop_current()};
    mtask_future *futures[3];
    futures[0] = go(pass_balls, &game);
    futures[1] = go(return_balls, &game);
    futures[2] = go(sleep_a_little, NULL);
    for (long i = 0; i < COUNT_OF(futures); i++)
        (void)take(futures[i]);
    *(mtask_loop **)arg = mtask_loop_current();
    return arg;
}

static void run_own_loop(testing_member *self) {
    mtask_loop **loops = (mtask_loop **)self->arg;
    for (int i = 0; i < 3; i++)
        (void)in_loop(play_on_own_loop, &loops[self->index]);
}

START_TEST(each_thread_runs_a_loop_of_its_own) {
    mtask_loop *loops[4] = {NULL, NULL, NULL, NULL};
    testing_crowd crowd;
    testing_crowd_start(&crowd, 4, run_own_loop, loops);
    testing_crowd_join(&crowd);
    for (int i = 0; i < 4; i++)
        ck_assert_ptr_nonnull(loops[i]);
}
END_TEST

/* A loop that threads start tasks on. */
typedef struct service {
    mtask_loop *loop;
    mtask_event ready;
    mtask_event over;
} service;

static void *serve(void *arg) {
    service *self = (service *)arg;
    self->loop = mtask_loop_current();
    mtask_event_set(&self->ready);
    return wait_event(&self->over) != NULL ? arg : NULL;
}

static void *serve_in_thread(void *arg) {
    return in_loop(serve, arg);
}

static void begin_service(service *self, mtask_thread *thread) {
    memset(self, 0, sizeof *self);
    start_thread(thread, serve_in_thread, self);
    ck_assert_status(mtask_event_wait(&self->ready, MTASK_FOREVER), MTASK_OK);
}

static void end_service(service *self, mtask_thread *thread) {
    mtask_event_set(&self->over);
    join_thread(thread);
}

static void *tell_loop(void *arg) {
    ck_assert_status(mtask_sleep(MTASK_US(50)), MTASK_OK);
    *(mtask_loop **)arg = mtask_loop_current();
    return arg;
}

/* Has each of its tasks done there, and asks for the result here. */
static void use_service(testing_member *self) {
    service *other = (service *)self->arg;
    for (long i = testing_scale(300); i > 0; i--) {
        mtask_loop *ran_on = NULL;
        mtask_future *future = NULL;
        mtask_go_desc desc = {
            .fn = tell_loop, .arg = &ran_on, .loop = other->loop, .future = &future};
        if (i % 2 == 0)
            ck_assert_status(mtask_go_ex(&desc), MTASK_OK);
        else
            ck_assert_status(mtask_loop_go(other->loop, tell_loop, &ran_on, &future), MTASK_OK);
        ck_assert_ptr_eq(take(future), &ran_on);
        testing_check(ran_on == other->loop);
    }
}

START_TEST(threads_start_tasks_on_a_loop) {
    service other;
    mtask_thread thread;
    testing_crowd crowd;
    begin_service(&other, &thread);
    testing_crowd_start(&crowd, 4, use_service, &other);
    testing_crowd_join(&crowd);
    end_service(&other, &thread);
}
END_TEST

static void *use_service_from_loop(void *arg) {
    testing_member member = {.arg = arg};
    use_service(&member);
    return arg;
}

START_TEST(tasks_of_one_loop_wait_for_tasks_of_another) {
    service other;
    mtask_thread thread;
    begin_service(&other, &thread);
    (void)in_loop(use_service_from_loop, &other);
    end_service(&other, &thread);
}
END_TEST

static void *start_on_own_loop(void *arg) {
    mtask_loop *loop = mtask_loop_current(), *ran_on = NULL;
    mtask_future *future = NULL;
    mtask_go_desc desc = {.fn = leave_letter, .arg = letters, .loop = loop};
    ck_assert_status(mtask_go_ex(&desc), MTASK_OK);
    ck_assert_status(mtask_loop_go(loop, tell_loop, &ran_on, &future), MTASK_OK);
    step('M');
    ck_assert_ptr_eq(take(future), &ran_on);
    ck_assert_ptr_eq(ran_on, loop);
    return arg;
}

START_TEST(a_loop_may_be_named_by_its_own_tasks) {
    (void)in_loop(start_on_own_loop, NULL);
    check_steps("Ma");
}
END_TEST

static void *start_many_detached(void *arg) {
    service *other = (service *)arg;
    for (long i = testing_scale(3000); i > 0; i--)
        ck_assert_status(mtask_loop_go(other->loop, return_arg, NULL, NULL), MTASK_OK);
    return arg;
}

/* Tasks are started from outside as fast as they come, and the loop ends with some of them. */
START_TEST(a_loop_may_end_with_tasks_that_threads_have_started) {
    for (int round = 0; round < 3; round++) {
        service other;
        mtask_thread thread;
        begin_service(&other, &thread);
        (void)start_many_detached(&other);
        end_service(&other, &thread);
    }
}
END_TEST

/* ---- posted calls ---- */

static void count_call(void *arg) {
    ++*(long *)arg;
}

static void leave_letter_called(void *arg) {
    step(*(const char *)arg);
}

static void *post_and_look(void *arg) {
    mtask_loop *loop = mtask_loop_current();
    mtask_loop_call calls[3] = {{.arg = NULL}};
    for (int i = 0; i < 3; i++) {
        calls[i].fn = leave_letter_called;
        calls[i].arg = &letters[i];
        ck_assert_status(mtask_loop_post(loop, &calls[i]), MTASK_OK);
    }
    step('M'); /* they are called between two tasks, not inside of this one */
    ck_assert_status(mtask_sleep(MTASK_MS(1)), MTASK_OK);
    step('M');
    return arg;
}

START_TEST(posted_calls_are_called_in_order_between_two_tasks) {
    (void)in_loop(post_and_look, NULL);
    check_steps("MabcM");
}
END_TEST

static void *post_twice(void *arg) {
    long count = 0;
    mtask_loop *loop = mtask_loop_current();
    mtask_loop_call call = {.fn = count_call, .arg = &count};
    for (long round = 1; round < 4; round++) {
        for (int i = 0; i < 5; i++)
            ck_assert_status(mtask_loop_post(loop, &call), MTASK_OK);
        ck_assert_int_eq(count, round - 1);
        ck_assert_status(mtask_sleep(MTASK_US(200)), MTASK_OK);
        ck_assert_int_eq(count, round);
    }
    return arg;
}

START_TEST(a_call_posted_several_times_is_called_once) {
    (void)in_loop(post_twice, NULL);
}
END_TEST

static void *post_nothing(void *arg) {
    mtask_loop_call call = {.arg = arg};
    ck_assert_status(mtask_loop_post(mtask_loop_current(), &call), MTASK_INVALID);
    return arg;
}

START_TEST(a_call_needs_a_function) {
    (void)in_loop(post_nothing, NULL);
}
END_TEST

/* A call that posts itself a number of times. */
typedef struct echo {
    mtask_loop *loop;
    mtask_loop_call call;
    long left;
    mtask_event over;
} echo;

static void echo_again(void *arg) {
    echo *self = (echo *)arg;
    testing_check(mtask_loop_current() == self->loop);
    if (--self->left == 0)
        mtask_event_set(&self->over);
    else
        ck_assert_status(mtask_loop_post(self->loop, &self->call), MTASK_OK);
}

static void *post_echo(void *arg) {
    echo one = {.loop = mtask_loop_current(), .left = testing_scale(5000)};
    one.call.fn = echo_again;
    one.call.arg = &one;
    ck_assert_status(mtask_loop_post(one.loop, &one.call), MTASK_OK);
    (void)wait_event(&one.over);
    ck_assert_int_eq(one.left, 0);
    return arg;
}

START_TEST(a_posted_call_may_post_itself) {
    (void)in_loop(post_echo, NULL);
}
END_TEST

static void start_posted(void *arg) {
    go_alone(set_event, arg);
}

static void *post_a_start(void *arg) {
    mtask_event event = {0};
    mtask_loop_call call = {.fn = start_posted, .arg = &event};
    ck_assert_status(mtask_loop_post(mtask_loop_current(), &call), MTASK_OK);
    (void)wait_event(&event);
    return arg;
}

START_TEST(a_posted_call_may_start_tasks) {
    (void)in_loop(post_a_start, NULL);
}
END_TEST

/* Each thread posts its own call again as soon as it has been called. */
typedef struct poster {
    service *to;
    mtask_loop_call call;
    mtask_sem called;
    long count;
} poster;

static void note_called(void *arg) {
    poster *self = (poster *)arg;
    self->count++;
    ck_assert_status(mtask_sem_release(&self->called, 1), MTASK_OK);
}

static void post_again_and_again(testing_member *self) {
    poster one = {.to = (service *)self->arg};
    long rounds = testing_scale(2000);
    one.call.fn = note_called;
    one.call.arg = &one;
    for (long i = 0; i < rounds; i++) {
        ck_assert_status(mtask_loop_post(one.to->loop, &one.call), MTASK_OK);
        ck_assert_status(mtask_sem_acquire(&one.called, MTASK_FOREVER), MTASK_OK);
    }
    testing_check(one.count == rounds);
}

START_TEST(threads_post_calls_to_an_idle_loop) {
    service other;
    mtask_thread thread;
    testing_crowd crowd;
    begin_service(&other, &thread);
    testing_crowd_start(&crowd, 4, post_again_and_again, &other);
    testing_crowd_join(&crowd);
    end_service(&other, &thread);
}
END_TEST

/* One call for all: whoever wants it counts up a wish first. What the threads write lies on lines of
   the cache of its own. */
typedef struct wishes {
    mtask_loop_call call;
    mtask_word made __attribute__((aligned(64)));
    mtask_word seen __attribute__((aligned(64))); /* how many were made when it was called last */
    mtask_word over;                              /* nobody makes any more */
    mtask_word round;                             /* in which they may be made */
    mtask_loop *loop;
    testing_random random;
} wishes;

static wishes all_wishes; /* static: a signal handler must find it */

/* Takes a while, so that others are made meanwhile. */
static void look_at_wishes(void *arg) {
    mtask_word made = mtask_word_load(&all_wishes.made);
    (void)arg;
    testing_dawdle(&all_wishes.random, 200);
    mtask_word_store(&all_wishes.seen, made);
}

static void make_wish(void) {
    mtask_word_add(&all_wishes.made, 1);
    testing_check(mtask_loop_post(all_wishes.loop, &all_wishes.call) == MTASK_OK);
}

static void begin_wishes(void) {
    memset(&all_wishes, 0, sizeof all_wishes);
    all_wishes.loop = mtask_loop_current();
    all_wishes.call.fn = look_at_wishes;
    all_wishes.random = testing_random_make(testing_seed(), 99);
}

/* Returns when every wish was seen. Now and then it leaves the loop idle for a moment. */
static void await_wishes(void) {
    int64_t nap = MTASK_US(10);
    while (mtask_word_load(&all_wishes.over) == 0 ||
           mtask_word_load(&all_wishes.seen) != mtask_word_load(&all_wishes.made)) {
        ck_assert_status(mtask_sleep(nap), MTASK_OK);
        nap = nap < MTASK_MS(1) ? nap * 2 : MTASK_US(10);
    }
}

/* In each round the threads make three wishes each, at about the same time. */
static void make_wishes_in_rounds(testing_member *self) {
    testing_random random = testing_random_make(testing_seed(), (unsigned)self->index);
    for (mtask_word round = 1; mtask_word_load(&all_wishes.over) == 0; round++) {
        while (mtask_word_load(&all_wishes.round) < round)
            if (mtask_word_load(&all_wishes.over) != 0)
                return;
            else
                sched_yield();
        for (int i = 0; i < 3; i++) {
            testing_dawdle(&random, 64);
            make_wish();
        }
    }
}

static void *let_threads_wish(void *arg) {
    mtask_word rounds = (mtask_word)testing_scale(5000);
    testing_crowd crowd;
    int64_t end = mtask_now() + MTASK_MS(300);
    begin_wishes();
    testing_crowd_start(&crowd, 2, make_wishes_in_rounds, NULL);
    for (mtask_word round = 1; round <= rounds && mtask_now() < end; round++) {
        mtask_word_store(&all_wishes.round, round);
        for (long turn = 0; mtask_word_load(&all_wishes.seen) < 6 * round; turn++)
            ck_assert_status(turn < 1000 ? mtask_yield() : mtask_sleep(MTASK_US(100)), MTASK_OK);
    }
    mtask_word_store(&all_wishes.over, 1);
    testing_crowd_join(&crowd);
    return arg;
}

/* A wish that is made while the call is being called must not be overlooked. */
START_TEST(threads_may_post_the_same_call) {
    (void)in_loop(let_threads_wish, NULL);
}
END_TEST

static void wish_on_signal(int number) {
    int before = errno;
    (void)number;
    make_wish();
    testing_check(errno == before);
}

static void catch_wishes(void) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = wish_on_signal;
    testing_check(sigaction(SIGUSR1, &action, NULL) == 0);
}

/* Signals reach the loop's thread wherever it is, and others. */
static void *send_signals(void *arg) {
    pthread_t loop = *(pthread_t *)arg;
    testing_random random = testing_random_make(testing_seed(), 0);
    for (long i = testing_scale(600); i > 0; i--) {
        testing_check(
            pthread_kill(testing_below(&random, 4) == 0 ? pthread_self() : loop, SIGUSR1) == 0);
        testing_dawdle(&random, 20000);
    }
    mtask_word_store(&all_wishes.over, 1);
    return arg;
}

static void *let_signals_wish(void *arg) {
    mtask_thread thread;
    pthread_t self = pthread_self();
    begin_wishes();
    catch_wishes();
    start_thread(&thread, send_signals, &self);
    await_wishes();
    join_thread(&thread);
    return arg;
}

START_TEST(signal_handlers_may_post_calls) {
    (void)in_loop(let_signals_wish, NULL);
}
END_TEST

static void set_event_from_handler(void *arg) {
    mtask_event_set((mtask_event *)arg);
}

static void *signal_once_idle(void *arg) {
    int tid = *(int *)arg;
    while (!testing_is_asleep(getpid(), tid))
        testing_pause(1);
    testing_check(syscall(SYS_tgkill, getpid(), tid, SIGUSR1) == 0);
    return arg;
}

/* The loop sleeps with nothing to do, until a handler on its own thread posts. */
static void *be_woken_by_a_handler(void *arg) {
    mtask_thread thread;
    mtask_event event = {0};
    int tid = (int)syscall(SYS_gettid);
    begin_wishes();
    catch_wishes();
    all_wishes.call.fn = set_event_from_handler;
    all_wishes.call.arg = &event;
    start_thread(&thread, signal_once_idle, &tid);
    (void)wait_event(&event);
    join_thread(&thread);
    return arg;
}

START_TEST(a_signal_handler_wakes_an_idle_loop) {
    (void)in_loop(be_woken_by_a_handler, NULL);
}
END_TEST

static void *post_last(void *arg) {
    static mtask_loop_call calls[3];
    for (int i = 0; i < 3; i++) {
        calls[i].fn = count_call;
        calls[i].arg = arg;
        ck_assert_status(mtask_loop_post(mtask_loop_current(), &calls[i]), MTASK_OK);
    }
    return arg;
}

START_TEST(what_was_not_called_when_the_loop_ended_is_not_called_any_more) {
    long count = 0, then;
    (void)in_loop(post_last, &count);
    then = count;
    ck_assert_int_le(then, 3);
    (void)in_loop(sleep_a_little, NULL);
    ck_assert_int_eq(count, then);
}
END_TEST

/* ---- waits where there is no task ---- */

typedef struct boxed {
    mtask_mutex held;
    mtask_rmutex rheld;
    mtask_event event;
    mtask_sem sem;
    mtask_cond cond;
    mtask_rwlock rwlock;
    mtask_waitgroup group;
    mtask_future *future;
    mtask_word word;
    long calls;
    mtask_event over;
} boxed;

static void refuse_locks(boxed *box) {
    ck_assert_status(mtask_mutex_lock(&box->held), MTASK_DEADLOCK);
    ck_assert_status(mtask_mutex_lock_for(&box->held, LONG), MTASK_DEADLOCK);
    ck_assert_status(mtask_rmutex_lock(&box->rheld), MTASK_DEADLOCK);
    ck_assert_status(mtask_rwlock_lock_read(&box->rwlock), MTASK_DEADLOCK);
    ck_assert_status(mtask_rwlock_lock_write_for(&box->rwlock, LONG), MTASK_DEADLOCK);
}

/* What has to wait is refused at once; what need not is done. */
static void refuse_to_wait(void *arg) {
    boxed *box = (boxed *)arg;
    refuse_locks(box);
    ck_assert_status(mtask_sleep(MTASK_US(1)), MTASK_DEADLOCK);
    ck_assert_status(mtask_event_wait(&box->event, MTASK_FOREVER), MTASK_DEADLOCK);
    ck_assert_status(mtask_sem_acquire(&box->sem, LONG), MTASK_DEADLOCK);
    ck_assert_status(mtask_waitgroup_wait(&box->group, LONG), MTASK_DEADLOCK);
    ck_assert_status(mtask_future_get(box->future, NULL, MTASK_FOREVER), MTASK_DEADLOCK);
    ck_assert_status(mtask_future_wait(box->future, LONG), MTASK_DEADLOCK);
    ck_assert_status(mtask_futures_wait(&box->future, 1, MTASK_WAIT_ALL, LONG), MTASK_DEADLOCK);
    ck_assert_status(mtask_word_wait(&box->word, 0, LONG, 0), MTASK_DEADLOCK);
    ck_assert_status(mtask_mutex_unlock(&box->held), MTASK_OK);
    ck_assert_status(mtask_mutex_lock(&box->held), MTASK_OK);
    ck_assert_status(mtask_sem_release(&box->sem, 1), MTASK_OK);
    ck_assert_status(mtask_sem_acquire(&box->sem, LONG), MTASK_OK);
    box->calls++;
    mtask_event_set(&box->over);
}

static void close_box(boxed *box) {
    memset(box, 0, sizeof *box);
    ck_assert_status(mtask_mutex_lock(&box->held), MTASK_OK);
    ck_assert_status(mtask_rmutex_lock(&box->rheld), MTASK_OK);
    ck_assert_status(mtask_rwlock_lock_write(&box->rwlock), MTASK_OK);
    ck_assert_status(mtask_waitgroup_add(&box->group, 1), MTASK_OK);
    ck_assert_status(mtask_future_create(&box->future, NULL), MTASK_OK);
}

static void *post_a_wait(void *arg) {
    boxed box;
    mtask_loop_call call = {.fn = refuse_to_wait, .arg = &box};
    close_box(&box);
    ck_assert_status(mtask_loop_post(mtask_loop_current(), &call), MTASK_OK);
    (void)wait_event(&box.over);
    mtask_future_release(box.future);
    return arg;
}

START_TEST(a_posted_call_must_not_wait) {
    (void)in_loop(post_a_wait, NULL);
}
END_TEST

/* ---- what an idle loop costs ---- */

static int64_t cpu_used(void) {
    struct timespec used;
    testing_check(clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used) == 0);
    return MTASK_SEC(used.tv_sec) + used.tv_nsec;
}

typedef struct idler {
    mtask_event event;
    int64_t timeout;
} idler;

static void *set_after_a_pause(void *arg) {
    testing_pause(100);
    mtask_event_set(&((idler *)arg)->event);
    return arg;
}

/* Fails the test unless the wait took at least four times as long as the CPU worked. */
static void *wait_idly(void *arg) {
    idler *self = (idler *)arg;
    mtask_thread thread;
    int64_t used, start;
    mtask_event_clear(&self->event);
    start_thread(&thread, set_after_a_pause, self);
    used = cpu_used();
    start = mtask_now();
    ck_assert_status(mtask_event_wait(&self->event, self->timeout), MTASK_OK);
    ck_assert_int_lt(4 * (cpu_used() - used), mtask_now() - start);
    join_thread(&thread);
    return arg;
}

START_TEST(an_idle_loop_uses_no_cpu) {
    idler one = {.timeout = MTASK_FOREVER};
    (void)in_loop(wait_idly, &one);
    one.timeout = LONG;
    (void)in_loop(wait_idly, &one);
}
END_TEST

/* Sleeps that are not a whole number of milliseconds: their last part must not be spent polling. */
static void *sleep_idly(void *arg) {
    int64_t used = cpu_used(), start = mtask_now();
    for (int i = 0; i < 80; i++)
        ck_assert_status(mtask_sleep(MTASK_US(900)), MTASK_OK);
    ck_assert_int_lt(2 * (cpu_used() - used), mtask_now() - start);
    return arg;
}

START_TEST(a_loop_that_sleeps_for_parts_of_milliseconds_uses_no_cpu) {
    (void)in_loop(sleep_idly, NULL);
}
END_TEST

/* ---- what is a task's own ---- */

static void *keep_errno(void *arg) {
    int mine = (int)(long)arg;
    mtask_event event = {0};
    errno = mine;
    for (int i = 0; i < 5; i++) {
        take_turns();
        ck_assert_int_eq(errno, mine);
        ck_assert_status(mtask_sleep(MTASK_US(50)), MTASK_OK);
        ck_assert_int_eq(errno, mine);
        ck_assert_status(mtask_event_wait(&event, MTASK_US(50)), MTASK_TIMEOUT);
        ck_assert_int_eq(errno, mine);
    }
    return arg;
}

static void *set_errno(void *arg) {
    errno = (int)(long)arg;
    return arg;
}

static void *keep_several_errnos(void *arg) {
    mtask_future *futures[5];
    errno = 77;
    for (long i = 0; i < COUNT_OF(futures); i++)
        futures[i] = go(keep_errno, (void *)(i + 1));
    ck_assert_int_eq(errno, 77);
    for (long i = 0; i < COUNT_OF(futures); i++)
        (void)take(futures[i]);
    ck_assert_int_eq(errno, 77);
    go_now(set_errno, (void *)9);
    ck_assert_int_eq(errno, 77);
    return arg;
}

START_TEST(errno_is_a_tasks_own) {
    (void)in_loop(keep_several_errnos, NULL);
}
END_TEST

static void *tell_id(void *arg) {
    uint64_t id = mtask_task_id();
    *(uint64_t *)arg = id;
    take_turns();
    ck_assert_uint_eq(mtask_task_id(), id);
    return arg;
}

static int by_number(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static void *collect_ids(void *arg) {
    enum { COUNT = TESTING_TSAN ? 90 : 600 };
    static uint64_t ids[COUNT + 2];
    mtask_future *futures[COUNT / 3];
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < COUNT / 3; i++)
            futures[i] = go(tell_id, &ids[round * (COUNT / 3) + i]);
        for (int i = 0; i < COUNT / 3; i++)
            (void)take(futures[i]);
    }
    ids[COUNT] = mtask_task_id();
    ids[COUNT + 1] = *(uint64_t *)arg;
    qsort(ids, COUNT + 2, sizeof ids[0], by_number);
    ck_assert_uint_ne(ids[0], 0);
    for (int i = 0; i <= COUNT; i++)
        testing_check(ids[i] != ids[i + 1]);
    return arg;
}

START_TEST(each_task_has_a_number_of_its_own) {
    uint64_t before = mtask_task_id();
    (void)in_loop(collect_ids, &before);
    ck_assert_uint_eq(mtask_task_id(), before);
}
END_TEST

static void *fail_to_lock(void *arg) {
    mtask_rmutex *lock = (mtask_rmutex *)arg;
    ck_assert_status(mtask_rmutex_lock_for(lock, MTASK_NOWAIT), MTASK_TIMEOUT);
    ck_assert_status(mtask_rmutex_lock_for(lock, MTASK_US(50)), MTASK_TIMEOUT);
    ck_assert_uint_eq(mtask_rmutex_count(lock), 0);
    ck_assert_status(mtask_rmutex_unlock(lock), MTASK_NOT_OWNER);
    return arg;
}

static void *lock_once_more(void *arg) {
    mtask_rmutex *lock = (mtask_rmutex *)arg;
    ck_assert_status(mtask_rmutex_lock(lock), MTASK_OK);
    ck_assert_uint_eq(mtask_rmutex_count(lock), 2);
    ck_assert_status(mtask_coro_yield(NULL, NULL), MTASK_OK);
    ck_assert_status(mtask_rmutex_unlock(lock), MTASK_OK);
    return arg;
}

static void *hold_a_lock(void *arg) {
    mtask_rmutex lock = {.count = 0};
    mtask_coro *coro = open_coro(lock_once_more, &lock); /* part of this task */
    ck_assert_status(mtask_rmutex_lock(&lock), MTASK_OK);
    (void)take(go(fail_to_lock, &lock));
    ck_assert_status(mtask_coro_resume(coro, NULL, NULL), MTASK_OK);
    (void)take(go(fail_to_lock, &lock));
    ck_assert_uint_eq(mtask_rmutex_count(&lock), 2);
    ck_assert_status(mtask_coro_resume(coro, NULL, NULL), MTASK_DONE);
    end_coro(coro);
    ck_assert_uint_eq(mtask_rmutex_count(&lock), 1);
    ck_assert_status(mtask_rmutex_unlock(&lock), MTASK_OK);
    return arg;
}

START_TEST(a_recursive_lock_belongs_to_a_task) {
    (void)in_loop(hold_a_lock, NULL);
}
END_TEST

static void *fail_among_others(void *arg) {
    mtask_outcome outcome;
    ck_assert_status(mtask_failure(&outcome), MTASK_OK);
    (void)mtask_fail(MTASK_NOT_FOUND, "task %ld", (long)arg);
    take_turns();
    ck_assert_status(mtask_sleep(MTASK_US(50)), MTASK_OK);
    ck_assert_status(mtask_failure(&outcome), MTASK_NOT_FOUND);
    ck_assert_int_eq(outcome.text[5] - '0', (long)arg);
    return arg;
}

static void *fail_together(void *arg) {
    mtask_future *futures[4];
    for (long i = 0; i < COUNT_OF(futures); i++)
        futures[i] = go(fail_among_others, (void *)i);
    for (long i = 0; i < COUNT_OF(futures); i++)
        (void)take(futures[i]);
    ck_assert_status(mtask_failure(NULL), MTASK_OK);
    return arg;
}

START_TEST(each_task_fails_for_itself) {
    (void)in_loop(fail_together, NULL);
}
END_TEST

/* ---- fork ---- */

/* Waits for a child to end well, while the other tasks of the loop go on. */
static void await_child(pid_t pid) {
    int status = 0;
    pid_t ended;
    while ((ended = waitpid(pid, &status, WNOHANG)) == 0)
        ck_assert_status(mtask_sleep(MTASK_US(500)), MTASK_OK);
    testing_check(ended == pid);
    testing_check(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

typedef struct parting {
    pid_t parent;
    pid_t child;
    mtask_loop *loop;
    mtask_rmutex lock;
    mtask_event event;
    mtask_future *other; /* a task that is not to notice anything */
    bool over;
    long turns; /* of that task */
    long runs;
} parting;

/* What a task that has forked can do in the child: no loop is there, calls block. */
static void be_a_child(parting *self, mtask_coro *coro) {
    mtask_future *future = NULL;
    mtask_go_desc desc = {.fn = count_up, .arg = &self->runs, .loop = self->loop};
    int64_t start = mtask_now();
    IN_CHILD(mtask_go(count_up, &self->runs, NULL) == MTASK_BROKEN);
    IN_CHILD(mtask_go(count_up, &self->runs, &future) == MTASK_BROKEN && future == NULL);
    IN_CHILD(mtask_go_ex(&desc) == MTASK_BROKEN);
    desc.loop = NULL;
    desc.now = true;
    IN_CHILD(mtask_go_ex(&desc) == MTASK_BROKEN);
    IN_CHILD(mtask_loop_go(self->loop, count_up, &self->runs, NULL) == MTASK_BROKEN);
    IN_CHILD(mtask_loop_current() == NULL);
    IN_CHILD(mtask_future_get(self->other, NULL, MTASK_FOREVER) == MTASK_BROKEN);
    IN_CHILD(mtask_sleep(MTASK_MS(2)) == MTASK_OK);
    IN_CHILD(mtask_now() - start >= MTASK_MS(2));
    IN_CHILD(mtask_event_wait(&self->event, MTASK_MS(1)) == MTASK_TIMEOUT);
    IN_CHILD(mtask_yield() == MTASK_OK);
    IN_CHILD(mtask_rmutex_unlock(&self->lock) == MTASK_OK);
    IN_CHILD(self->runs == 0);
    if (TESTING_TSAN) /* in a child it does not see what a switch orders */
        _exit(0);
    IN_CHILD(mtask_coro_resume(coro, NULL, NULL) == MTASK_OK);
    IN_CHILD(mtask_loop_run(count_up, &self->runs, NULL) == MTASK_OK && self->runs == 1);
}

static void *take_turns_until_over(void *arg) {
    parting *self = (parting *)arg;
    while (!self->over) {
        self->turns++;
        if (getpid() != self->parent)
            _exit(1); /* the tasks that did not fork do not go on in the child */
        ck_assert_status(mtask_sleep(MTASK_US(100)), MTASK_OK);
    }
    return arg;
}

static void *part(void *arg) {
    parting *self = (parting *)arg;
    mtask_coro *coro = open_coro(count_to, (void *)5);
    self->other = go(take_turns_until_over, arg);
    self->loop = mtask_loop_current();
    ck_assert_status(mtask_rmutex_lock(&self->lock), MTASK_OK);
    ck_assert_status(mtask_coro_resume(coro, NULL, NULL), MTASK_OK);
    take_turns();
    self->child = fork_child();
    if (self->child == 0) {
        be_a_child(self, coro);
        return arg;
    }
    await_child(self->child);
    ck_assert_status(mtask_rmutex_unlock(&self->lock), MTASK_OK);
    ck_assert_status(mtask_coro_close(coro), MTASK_OK);
    end_coro(coro);
    ck_assert_int_gt(self->turns, 1);
    self->over = true;
    (void)take(self->other);
    return take(go(return_arg, arg));
}

static void *have_another_part(void *arg) {
    return take(go(part, arg));
}

/* Runs a loop in which a task forks: it ends for both processes. */
static void run_and_part(mtask_fn fn) {
    parting self = {.parent = getpid()};
    mtask_outcome outcome;
    mtask_status status = mtask_loop_run(fn, &self, &outcome);
    if (getpid() != self.parent) {
        long runs = 0;
        IN_CHILD(status == MTASK_BROKEN);
        IN_CHILD(mtask_loop_current() == NULL);
        IN_CHILD(mtask_loop_run(count_up, &runs, NULL) == MTASK_OK && runs == 1);
        _exit(0);
    }
    ck_assert_status(status, MTASK_OK);
    ck_assert_ptr_eq(outcome.value, &self);
}

START_TEST(a_child_forked_by_a_task_has_no_loop) {
    run_and_part(part);
}
END_TEST

START_TEST(any_task_may_fork) {
    run_and_part(have_another_part);
}
END_TEST

static void part_from_thread(service *other) {
    pid_t parent = getpid(), child = fork_child();
    if (child == 0) {
        long runs = 0;
        IN_CHILD(mtask_loop_go(other->loop, count_up, &runs, NULL) == MTASK_BROKEN);
        IN_CHILD(mtask_loop_current() == NULL);
        if (!TESTING_TSAN && !TESTING_ASAN) /* they allow no allocation in such a child */
            IN_CHILD(mtask_loop_run(count_up, &runs, NULL) == MTASK_OK && runs == 1);
        _exit(getpid() == parent);
    }
    await_child(child);
}

START_TEST(a_loop_goes_on_when_another_thread_forks) {
    service other;
    mtask_thread thread;
    mtask_future *future = NULL;
    int thing;
    begin_service(&other, &thread);
    for (int i = 0; i < 3; i++)
        part_from_thread(&other);
    ck_assert_status(mtask_loop_go(other.loop, return_arg, &thing, &future), MTASK_OK);
    ck_assert_ptr_eq(take(future), &thing);
    end_service(&other, &thread);
}
END_TEST

/* ---- the future of a task ---- */

static void *look_at_states(void *arg) {
    mtask_event event = {0};
    mtask_future *future = go(wait_event, &event);
    mtask_outcome outcome;
    ck_assert(!mtask_future_running(future));
    ck_assert(!mtask_future_done(future));
    take_turns();
    ck_assert(mtask_future_running(future));
    ck_assert(!mtask_future_done(future));
    ck_assert_status(mtask_future_get(future, NULL, MTASK_NOWAIT), MTASK_TIMEOUT);
    ck_assert_status(mtask_future_wait(future, MTASK_US(100)), MTASK_TIMEOUT);
    mtask_event_set(&event);
    ck_assert_status(mtask_future_wait(future, LONG), MTASK_OK);
    ck_assert(mtask_future_done(future));
    ck_assert(!mtask_future_running(future));
    ck_assert(!mtask_future_canceled(future));
    for (int i = 0; i < 2; i++) {
        ck_assert_status(mtask_future_get(future, &outcome, MTASK_NOWAIT), MTASK_OK);
        ck_assert_ptr_eq(outcome.value, &event);
    }
    mtask_future_release(future);
    return arg;
}

START_TEST(the_future_tells_how_far_a_task_is) {
    (void)in_loop(look_at_states, NULL);
}
END_TEST

static void *get_a_failure(void *arg) {
    char word[] = "way";
    mtask_future *future = go(fail_to_find, word);
    mtask_outcome outcome;
    ck_assert_status(mtask_future_get(future, &outcome, MTASK_FOREVER), MTASK_FAILED);
    ck_assert_status(outcome.status, MTASK_NOT_FOUND);
    ck_assert_str_eq(outcome.text, "there is no way");
    mtask_future_release(future);
    go_alone(fail_to_find, word); /* nobody hears of it */
    take_turns();
    ck_assert_status(mtask_failure(NULL), MTASK_OK);
    return arg;
}

START_TEST(the_future_tells_why_a_task_failed) {
    (void)in_loop(get_a_failure, NULL);
}
END_TEST

static void *take_for_thread(void *arg) {
    return take((mtask_future *)arg);
}

static void *get_in_several_places(void *arg) {
    mtask_event event = {0};
    mtask_future *future = go(wait_event, &event), *tasks[3];
    mtask_thread threads[3];
    for (int i = 0; i < 3; i++) {
        tasks[i] = go(take_for_thread, mtask_future_retain(future));
        start_thread(&threads[i], take_for_thread, mtask_future_retain(future));
    }
    ck_assert_status(mtask_sleep(MTASK_MS(2)), MTASK_OK);
    mtask_event_set(&event);
    for (int i = 0; i < 3; i++) {
        mtask_outcome outcome;
        ck_assert_ptr_eq(take(tasks[i]), &event);
        ck_assert_status(mtask_thread_join(&threads[i], &outcome, MTASK_FOREVER), MTASK_OK);
        ck_assert_ptr_eq(outcome.value, &event);
    }
    ck_assert_ptr_eq(take(future), &event);
    return arg;
}

START_TEST(tasks_and_threads_wait_for_the_same_task) {
    (void)in_loop(get_in_several_places, NULL);
}
END_TEST

static void *get_on_another_loop(void *arg) {
    service *other = (service *)arg;
    mtask_future *future = NULL;
    mtask_event event = {0};
    mtask_future *mine = go(wait_event, &event);
    ck_assert_status(mtask_loop_go(other->loop, take_for_thread, mine, &future), MTASK_OK);
    ck_assert_status(mtask_sleep(MTASK_MS(1)), MTASK_OK);
    mtask_event_set(&event);
    ck_assert_ptr_eq(take(future), &event);
    return arg;
}

START_TEST(a_task_of_another_loop_waits_for_a_task) {
    service other;
    mtask_thread thread;
    begin_service(&other, &thread);
    (void)in_loop(get_on_another_loop, &other);
    end_service(&other, &thread);
}
END_TEST

static void *release_early(void *arg) {
    mtask_event event = {0};
    mtask_future_release(go(wait_event, &event));
    mtask_future_release(go(count_up, arg));
    take_turns();
    ck_assert_int_eq(*(long *)arg, 1);
    mtask_future_release(go(count_up, arg));
    mtask_event_set(&event);
    take_turns();
    ck_assert_int_eq(*(long *)arg, 2);
    return arg;
}

START_TEST(a_future_may_be_given_back_before_the_task_ends) {
    long runs = 0;
    (void)in_loop(release_early, &runs);
}
END_TEST

static void note_end(mtask_future *future, void *ctx) {
    testing_check(mtask_future_done(future));
    step(*(const char *)ctx);
}

static void *call_back(void *arg) {
    mtask_event event = {0};
    mtask_future *future = go(wait_event, &event), *unbegun = go(return_arg, NULL);
    for (int i = 0; i < 3; i++)
        ck_assert_status(mtask_future_then(future, note_end, &letters[i]), MTASK_OK);
    ck_assert_status(mtask_future_then(unbegun, note_end, &letters[23]), MTASK_OK);
    ck_assert_status(mtask_future_cancel(unbegun), MTASK_OK);
    step('M');
    take_turns();
    mtask_event_set(&event);
    step('M');
    take_turns();
    ck_assert_status(mtask_future_then(future, note_end, &letters[3]), MTASK_OK);
    step('M');
    mtask_future_release(future);
    mtask_future_release(unbegun);
    return arg;
}

START_TEST(callbacks_hear_of_the_end_of_a_task) {
    (void)in_loop(call_back, NULL);
    check_steps("xMMabcdM");
}
END_TEST

static void *wait_for_several(void *arg) {
    mtask_event events[3] = {{0}, {0}, {0}};
    mtask_future *futures[3];
    char word[] = "end";
    for (int i = 0; i < 3; i++)
        futures[i] = go(wait_event, &events[i]);
    ck_assert_status(mtask_futures_wait(futures, 3, MTASK_WAIT_ANY, MTASK_US(200)), MTASK_TIMEOUT);
    go_alone(set_event, &events[1]);
    ck_assert_status(mtask_futures_wait(futures, 3, MTASK_WAIT_ANY, LONG), MTASK_OK);
    ck_assert(mtask_future_done(futures[1]) && !mtask_future_done(futures[0]));
    ck_assert_status(mtask_futures_wait(futures, 3, MTASK_WAIT_ALL, MTASK_US(200)), MTASK_TIMEOUT);
    go_alone(set_event, &events[0]);
    go_alone(set_event, &events[2]);
    ck_assert_status(mtask_futures_wait(futures, 3, MTASK_WAIT_ALL, LONG), MTASK_OK);
    for (int i = 0; i < 3; i++)
        ck_assert_ptr_eq(take(futures[i]), &events[i]);
    mtask_event_clear(&events[0]);
    futures[0] = go(wait_event, &events[0]);
    futures[1] = go(return_arg, NULL);
    futures[2] = go(fail_to_find, word);
    ck_assert_status(mtask_futures_wait(futures, 3, MTASK_WAIT_FIRST_FAILURE, LONG), MTASK_OK);
    ck_assert(!mtask_future_done(futures[0]) && mtask_future_done(futures[2]));
    mtask_event_set(&events[0]);
    (void)take(futures[0]);
    (void)take(futures[1]);
    mtask_future_release(futures[2]);
    return arg;
}

START_TEST(a_task_waits_for_several_others) {
    (void)in_loop(wait_for_several, NULL);
}
END_TEST

static void *take_as_completed(void *arg) {
    mtask_event events[3] = {{0}, {0}, {0}};
    mtask_future *futures[3], *next;
    mtask_completed *completed;
    size_t index;
    for (int i = 0; i < 3; i++)
        futures[i] = go(wait_event, &events[i]);
    ck_assert_status(mtask_as_completed(futures, 3, &completed), MTASK_OK);
    for (size_t i = 0; i < 3; i++) {
        go_alone(set_event, &events[(i + 2) % 3]);
        ck_assert_status(mtask_completed_next(completed, &next, &index, LONG), MTASK_OK);
        ck_assert_uint_eq(index, (i + 2) % 3);
        ck_assert_ptr_eq(next, futures[index]);
    }
    ck_assert_status(mtask_completed_next(completed, &next, &index, LONG), MTASK_DONE);
    mtask_completed_close(completed);
    for (int i = 0; i < 3; i++)
        (void)take(futures[i]);
    return arg;
}

START_TEST(a_task_takes_others_as_they_end) {
    (void)in_loop(take_as_completed, NULL);
}
END_TEST

/* ---- cancelling by the future ---- */

static void *cancel_before_the_start(void *arg) {
    mtask_outcome outcome;
    mtask_future *future = go(count_up, arg), *other = go(return_arg, arg);
    ck_assert_status(mtask_future_cancel(future), MTASK_OK);
    ck_assert_status(mtask_future_cancel(future), MTASK_OK);
    ck_assert(mtask_future_done(future));
    ck_assert(mtask_future_canceled(future));
    ck_assert_status(mtask_future_get(future, &outcome, MTASK_NOWAIT), MTASK_CANCELED);
    ck_assert_status(outcome.status, MTASK_CANCELED);
    ck_assert_ptr_eq(take(other), arg);
    mtask_future_release(future);
    ck_assert_int_eq(*(long *)arg, 0);
    return arg;
}

START_TEST(a_task_cancelled_before_it_begins_never_runs) {
    long runs = 0;
    (void)in_loop(cancel_before_the_start, &runs);
    ck_assert_int_eq(runs, 0);
}
END_TEST

static void *cancel_many_before_the_start(void *arg) {
    testing_random random = testing_random_make(testing_seed(), 0);
    long many = testing_scale(6000), expected = 0;
    for (long i = 0; i < many; i++) {
        mtask_future *future = go(count_up, arg);
        if (testing_below(&random, 2) == 0)
            ck_assert_status(mtask_future_cancel(future), MTASK_OK);
        else
            expected++;
        mtask_future_release(future);
        if (testing_below(&random, 50) == 0)
            take_turns();
    }
    take_turns();
    ck_assert_int_eq(*(long *)arg, expected);
    return arg;
}

START_TEST(those_that_never_run_leave_nothing_behind) {
    long runs = 0;
    (void)in_loop(cancel_many_before_the_start, &runs);
}
END_TEST

static void *cancel_a_sleeper(void *arg) {
    mtask_future *future = go(sleep_long, arg);
    take_turns();
    ck_assert_status(mtask_future_cancel(future), MTASK_OK);
    ck_assert(!mtask_future_done(future)); /* it ends when it returns */
    ck_assert_status(mtask_future_cancel(future), MTASK_OK);
    ck_assert_ptr_eq(take(mtask_future_retain(future)), arg);
    ck_assert_status(mtask_future_cancel(future), MTASK_INVALID);
    mtask_future_release(future);
    return arg;
}

START_TEST(a_task_cancelled_while_it_waits_is_told_by_that_wait) {
    (void)in_loop(cancel_a_sleeper, &steps);
}
END_TEST

static void *cancel_oneself(void *arg) {
    mtask_future **self = (mtask_future **)arg;
    ck_assert(!mtask_canceled());
    ck_assert_status(mtask_future_cancel(*self), MTASK_OK);
    ck_assert(mtask_canceled());
    for (int i = 0; i < 3; i++) {
        ck_assert_status(mtask_sleep(LONG), MTASK_CANCELED);
        ck_assert_status(mtask_yield(), MTASK_CANCELED);
    }
    return mtask_fail(MTASK_CANCELED, "by myself");
}

static void *have_it_cancel_itself(void *arg) {
    mtask_future *future = go(cancel_oneself, &future);
    mtask_outcome outcome;
    ck_assert_status(mtask_future_get(future, &outcome, MTASK_FOREVER), MTASK_FAILED);
    ck_assert_status(outcome.status, MTASK_CANCELED);
    ck_assert_str_eq(outcome.text, "by myself");
    mtask_future_release(future);
    return arg;
}

START_TEST(a_task_may_cancel_itself) {
    (void)in_loop(have_it_cancel_itself, NULL);
}
END_TEST

static void *cancel_for_thread(void *arg) {
    testing_pause(1);
    ck_assert_status(mtask_future_cancel((mtask_future *)arg), MTASK_OK);
    return arg;
}

static void *be_cancelled_by_a_thread(void *arg) {
    mtask_thread thread;
    mtask_future *future = go(sleep_long, arg);
    take_turns();
    start_thread(&thread, cancel_for_thread, future);
    ck_assert_ptr_eq(take(mtask_future_retain(future)), arg);
    join_thread(&thread);
    mtask_future_release(future);
    return arg;
}

START_TEST(a_thread_cancels_a_task) {
    (void)in_loop(be_cancelled_by_a_thread, &steps);
}
END_TEST

static void *get_future(void *arg) {
    ck_assert_status(mtask_future_get((mtask_future *)arg, NULL, LONG), MTASK_CANCELED);
    return arg;
}

static void *cancel_a_waiter(void *arg) {
    mtask_event event = {0};
    mtask_future *future = go(wait_event, &event), *waiting = go(get_future, future);
    take_turns();
    ck_assert_status(mtask_future_cancel(waiting), MTASK_OK);
    (void)take(waiting);
    ck_assert(!mtask_future_done(future));
    mtask_event_set(&event);
    ck_assert_ptr_eq(take(future), &event);
    return arg;
}

START_TEST(whom_a_cancelled_task_waits_for_goes_on) {
    (void)in_loop(cancel_a_waiter, NULL);
}
END_TEST

/* Threads cancel tasks at any moment of their short lives. */
static void *live_briefly(void *arg) {
    int64_t *nap = (int64_t *)arg;
    mtask_status status = mtask_sleep(*nap);
    testing_check(status == MTASK_OK || status == MTASK_CANCELED);
    status = mtask_yield();
    testing_check(status == MTASK_OK || status == MTASK_CANCELED);
    return arg;
}

static void cancel_by_chance(testing_member *self) {
    service *other = (service *)self->arg;
    testing_random random = testing_random_make(testing_seed(), (unsigned)self->index);
    for (long i = testing_scale(2000); i > 0; i--) {
        int64_t nap = (int64_t)testing_below(&random, 20000);
        mtask_future *future = NULL;
        mtask_status canceled, got;
        ck_assert_status(mtask_loop_go(other->loop, live_briefly, &nap, &future), MTASK_OK);
        testing_dawdle(&random, 3000);
        canceled = mtask_future_cancel(future);
        got = mtask_future_get(future, NULL, MTASK_FOREVER);
        testing_check(canceled == MTASK_OK || canceled == MTASK_INVALID);
        testing_check(got == MTASK_OK || got == MTASK_CANCELED);
        testing_check((got == MTASK_CANCELED) == mtask_future_canceled(future));
        testing_check(canceled == MTASK_OK || got == MTASK_OK);
        mtask_future_release(future);
    }
}

START_TEST(threads_may_cancel_at_any_moment) {
    service other;
    mtask_thread thread;
    testing_crowd crowd;
    begin_service(&other, &thread);
    testing_crowd_start(&crowd, 2, cancel_by_chance, &other);
    testing_crowd_join(&crowd);
    end_service(&other, &thread);
}
END_TEST

/* ---- a loop inside another one ---- */

static mtask_loop *open_loop(const mtask_loop_desc *desc) {
    mtask_loop *loop = NULL;
    ck_assert_status(mtask_loop_create(&loop, desc), MTASK_OK);
    testing_check(loop != NULL);
    return loop;
}

static void close_loop(mtask_loop *loop) {
    ck_assert_status(mtask_loop_destroy(loop), MTASK_OK);
}

static int fd_of(mtask_loop *loop) {
    int fd = -1;
    ck_assert_status(mtask_loop_fd(loop, &fd), MTASK_OK);
    testing_check(fd >= 0);
    return fd;
}

/* Whether a descriptor becomes readable within so many milliseconds (-1: for ever). */
static bool is_readable(int fd, int milliseconds) {
    struct pollfd one = {fd, POLLIN, 0};
    int found;
    do {
        found = poll(&one, 1, milliseconds);
    } while (found < 0 && errno == EINTR);
    testing_check(found >= 0 && (found == 0 || one.revents == POLLIN));
    return found == 1;
}

/* How long a host may sleep, in milliseconds: of timers the descriptor may not tell. */
static int host_timeout(const mtask_loop *loop) {
    int64_t next = mtask_loop_next(loop), left = mtask_until(next);
    if (FD_TELLS_OF_TIMERS || next == MTASK_FOREVER)
        return -1;
    return (int)((left + MTASK_MS(1) - 1) / MTASK_MS(1));
}

/* The loop of a host: sleeps in its own poll, and lets the tasks run when there is reason to. */
static void host_all(mtask_loop *loop) {
    int fd = fd_of(loop);
    for (;;) {
        mtask_status status = mtask_loop_step(loop, MTASK_NOWAIT);
        if (status == MTASK_DONE)
            return;
        testing_check(status == MTASK_OK || status == MTASK_TIMEOUT);
        (void)is_readable(fd, host_timeout(loop));
    }
}

START_TEST(a_step_tells_what_is_left) {
    mtask_loop *loop = open_loop(NULL);
    mtask_event event = {0};
    int64_t start = mtask_now();
    ck_assert_ptr_eq(mtask_loop_current(), loop);
    ck_assert_status(mtask_loop_step(loop, MTASK_NOWAIT), MTASK_DONE);
    go_alone(wait_event, &event);
    ck_assert_status(mtask_loop_step(loop, MTASK_FOREVER), MTASK_OK); /* it was ready */
    ck_assert_status(mtask_loop_step(loop, MTASK_NOWAIT), MTASK_TIMEOUT);
    ck_assert_status(mtask_loop_step(loop, MTASK_MS(3)), MTASK_TIMEOUT);
    ck_assert_int_ge(mtask_now() - start, MTASK_MS(3));
    ck_assert_status(mtask_loop_step(loop, -1), MTASK_INVALID);
    mtask_event_set(&event);
    ck_assert_status(mtask_loop_step(loop, MTASK_NOWAIT), MTASK_DONE);
    close_loop(loop);
    ck_assert_ptr_null(mtask_loop_current());
}
END_TEST

START_TEST(a_step_waits_for_what_becomes_ready) {
    mtask_loop *loop = open_loop(NULL);
    int64_t nap = MTASK_MS(2), start = mtask_now();
    mtask_status status;
    go_alone(live_briefly, &nap);
    ck_assert_status(mtask_loop_step(loop, MTASK_NOWAIT), MTASK_OK);
    do {
        status = mtask_loop_step(loop, MTASK_FOREVER);
    } while (status == MTASK_OK);
    ck_assert_status(status, MTASK_DONE);
    ck_assert_int_ge(mtask_now() - start, nap);
    close_loop(loop);
}
END_TEST

static void *misuse_loop(void *arg) {
    mtask_loop *loop = (mtask_loop *)arg;
    ck_assert_status(mtask_loop_step(loop, MTASK_NOWAIT), MTASK_INVALID);
    ck_assert_status(mtask_loop_destroy(loop), MTASK_INVALID);
    return arg;
}

static void misuse_loop_in_call(void *arg) {
    (void)misuse_loop(arg);
}

START_TEST(a_loop_is_run_by_its_own_thread_and_not_by_its_tasks) {
    mtask_loop *loop = open_loop(NULL), *second = NULL;
    mtask_loop_call call = {.fn = misuse_loop_in_call, .arg = loop};
    mtask_future *future = go(misuse_loop, loop);
    mtask_thread thread;
    long runs = 0;
    ck_assert_status(mtask_loop_post(loop, &call), MTASK_OK);
    ck_assert_status(mtask_loop_create(&second, NULL), MTASK_INVALID);
    ck_assert_status(mtask_loop_run(count_up, &runs, NULL), MTASK_INVALID);
    ck_assert_int_eq(runs, 0);
    host_all(loop);
    ck_assert_ptr_eq(take(future), loop);
    start_thread(&thread, misuse_loop, loop);
    join_thread(&thread);
    close_loop(loop);
    ck_assert_status(mtask_loop_destroy(NULL), MTASK_OK);
    ck_assert_ptr_eq(in_loop(count_up, &runs), &runs);
}
END_TEST

START_TEST(a_host_sees_what_a_loop_has_to_do) {
    mtask_loop *loop = open_loop(NULL);
    mtask_event event = {0};
    int64_t nap = MTASK_SEC(50), before, after;
    int fd = fd_of(loop);
    mtask_future *future;
    ck_assert_int_eq(mtask_loop_next(loop), MTASK_FOREVER);
    ck_assert_uint_eq(mtask_loop_pending(loop), 0);
    ck_assert(!is_readable(fd, 0));
    go_alone(wait_for_ever, &event);
    future = go(live_briefly, &nap);
    ck_assert_uint_eq(mtask_loop_pending(loop), 2);
    ck_assert_int_eq(mtask_loop_next(loop), 0);
    ck_assert(is_readable(fd, 0));
    before = mtask_now();
    ck_assert_status(mtask_loop_step(loop, MTASK_NOWAIT), MTASK_OK);
    after = mtask_now();
    ck_assert_status(mtask_loop_step(loop, MTASK_NOWAIT), MTASK_TIMEOUT);
    ck_assert_int_ge(mtask_loop_next(loop), before + nap);
    ck_assert_int_le(mtask_loop_next(loop), after + nap);
    ck_assert(!is_readable(fd, 0));
    ck_assert_status(mtask_future_cancel(future), MTASK_OK);
    ck_assert_int_eq(mtask_loop_next(loop), 0);
    ck_assert(is_readable(fd, 0));
    while (mtask_loop_step(loop, MTASK_NOWAIT) != MTASK_TIMEOUT) {
    }
    ck_assert_uint_eq(mtask_loop_pending(loop), 1);
    ck_assert_int_eq(mtask_loop_next(loop), MTASK_FOREVER);
    ck_assert(!is_readable(fd, 0));
    mtask_event_set(&event);
    ck_assert_int_eq(mtask_loop_next(loop), 0);
    ck_assert(is_readable(fd, 0));
    ck_assert_status(mtask_loop_step(loop, MTASK_NOWAIT), MTASK_DONE);
    ck_assert_uint_eq(mtask_loop_pending(loop), 0);
    mtask_future_release(future);
    close_loop(loop);
}
END_TEST

static void *work_for_a_host(void *arg) {
    idler *self = (idler *)arg;
    mtask_thread thread;
    (void)take(go(sleep_a_little, NULL));
    start_thread(&thread, set_after_a_pause, self);
    (void)wait_event(&self->event);
    join_thread(&thread);
    return take(go(sleep_a_little, arg));
}

START_TEST(a_host_sleeps_until_tasks_can_go_on) {
    mtask_loop *loop = open_loop(NULL);
    idler one = {.timeout = 0};
    mtask_future *future = go(work_for_a_host, &one);
    int64_t used = cpu_used(), start = mtask_now();
    host_all(loop);
    ck_assert_int_lt(4 * (cpu_used() - used), mtask_now() - start);
    ck_assert_ptr_eq(take(future), &one);
    close_loop(loop);
}
END_TEST

START_TEST(the_descriptor_tells_of_timers) {
    mtask_loop *loop = open_loop(NULL);
    int64_t naps[2] = {MTASK_MS(3), MTASK_MS(1)};
    int64_t start = mtask_now();
    int fd = fd_of(loop);
    go_alone(live_briefly, &naps[0]);
    ck_assert_status(mtask_loop_step(loop, MTASK_NOWAIT), MTASK_OK);
    go_alone(live_briefly, &naps[1]);
    if (FD_TELLS_OF_TIMERS) {
        while (mtask_loop_step(loop, MTASK_NOWAIT) != MTASK_DONE)
            testing_check(is_readable(fd, -1));
        ck_assert_int_ge(mtask_now() - start, naps[0]);
    }
    close_loop(loop);
}
END_TEST

#ifdef __linux__
static void watch(int epoll, int fd) {
    struct epoll_event event = {.events = EPOLLIN, .data = {.fd = fd}};
    testing_check(epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) == 0);
}

/* The host's epoll holds the loop and a pipe; both are served. */
START_TEST(a_loop_lies_in_the_epoll_set_of_a_host) {
    mtask_loop *loop = open_loop(NULL);
    mtask_event event = {0};
    mtask_future *future = go(wait_event, &event);
    int epoll = epoll_create1(0), ends[2], fd = fd_of(loop);
    bool done = false, piped = false;
    testing_check(epoll >= 0 && pipe(ends) == 0);
    watch(epoll, fd);
    watch(epoll, ends[0]);
    go_alone(sleep_a_little, NULL);
    testing_check(write(ends[1], "x", 1) == 1);
    while (!done) {
        struct epoll_event found;
        char byte;
        int count = epoll_wait(epoll, &found, 1, host_timeout(loop));
        testing_check(count >= 0 || errno == EINTR);
        if (count == 1 && found.data.fd == ends[0]) {
            testing_check(read(ends[0], &byte, 1) == 1 && !piped);
            piped = true;
            mtask_event_set(&event);
            continue;
        }
        done = mtask_loop_step(loop, MTASK_NOWAIT) == MTASK_DONE;
    }
    ck_assert(piped);
    ck_assert_ptr_eq(take(future), &event);
    close(ends[0]);
    close(ends[1]);
    close(epoll);
    close_loop(loop);
}
END_TEST
#endif

static void *wake_loop_from_thread(void *arg) {
    poster *self = (poster *)arg;
    for (long i = testing_scale(300); i > 0; i--) {
        ck_assert_status(mtask_loop_post(self->to->loop, &self->call), MTASK_OK);
        ck_assert_status(mtask_sem_acquire(&self->called, MTASK_FOREVER), MTASK_OK);
    }
    mtask_event_set(&self->to->over);
    return arg;
}

START_TEST(posts_from_threads_reach_a_host) {
    service here = {.loop = NULL};
    poster one = {.to = &here};
    mtask_thread thread;
    here.loop = open_loop(NULL);
    one.call.fn = note_called;
    one.call.arg = &one;
    go_alone(wait_event, &here.over);
    start_thread(&thread, wake_loop_from_thread, &one);
    host_all(here.loop);
    join_thread(&thread);
    ck_assert_int_eq(one.count, testing_scale(300));
    close_loop(here.loop);
}
END_TEST

START_TEST(a_loop_that_is_destroyed_cancels_and_awaits_its_tasks) {
    mtask_loop *loop = open_loop(NULL);
    long cleaned = 0, runs = 0;
    mtask_future *unbegun;
    for (int i = 0; i < 3; i++)
        go_alone(sleep_and_clean_up, &cleaned);
    ck_assert_status(mtask_loop_step(loop, MTASK_NOWAIT), MTASK_OK);
    unbegun = go(count_up, &runs);
    close_loop(loop);
    ck_assert_int_eq(cleaned, 3);
    ck_assert_int_eq(runs, 0);
    ck_assert_status(mtask_future_get(unbegun, NULL, MTASK_NOWAIT), MTASK_CANCELED);
    mtask_future_release(unbegun);
}
END_TEST

START_TEST(a_host_cancels_all_tasks) {
    mtask_loop *loop = open_loop(NULL);
    mtask_future *future = go(sleep_long, &steps);
    ck_assert_status(mtask_loop_step(loop, MTASK_NOWAIT), MTASK_OK);
    mtask_loop_cancel(loop);
    host_all(loop);
    ck_assert_ptr_eq(take(future), &steps);
    go_alone(sleep_a_little, NULL); /* it goes on taking tasks */
    host_all(loop);
    close_loop(loop);
}
END_TEST

START_TEST(a_forked_child_cannot_step_the_loop_of_a_host) {
    mtask_loop *loop = open_loop(NULL);
    mtask_event event = {0};
    pid_t child;
    go_alone(wait_event, &event);
    ck_assert_status(mtask_loop_step(loop, MTASK_NOWAIT), MTASK_OK);
    child = fork_child();
    if (child == 0) {
        IN_CHILD(mtask_loop_step(loop, MTASK_NOWAIT) == MTASK_BROKEN);
        IN_CHILD(mtask_go(return_arg, NULL, NULL) == MTASK_BROKEN);
        _exit(0);
    }
    await_child(child);
    mtask_event_set(&event);
    host_all(loop);
    close_loop(loop);
}
END_TEST

/* ---- dead-locks ---- */

/* What on_deadlock saw. */
typedef struct alarm_bell {
    mtask_loop *loop;
    int rings;
    size_t tasks;
} alarm_bell;

static void ring(mtask_loop *loop, void *ctx) {
    alarm_bell *bell = (alarm_bell *)ctx;
    mtask_task_info infos[8];
    bell->rings++;
    bell->loop = loop;
    testing_check(mtask_loop_current() == loop);
    ck_assert_status(mtask_loop_tasks(loop, infos, 8, &bell->tasks), MTASK_OK);
    for (size_t i = 0; i < bell->tasks; i++)
        ck_assert_str_eq(infos[i].state, "waiting");
    ck_assert_status(mtask_sleep(MTASK_US(1)), MTASK_DEADLOCK); /* it must not wait */
}

/* Runs fn(arg) as the only thing that is ever going to happen to its loop. */
static mtask_status run_alone(mtask_fn fn, void *arg, alarm_bell *bell, mtask_outcome *outcome) {
    mtask_loop_desc desc = {.no_external_wakers = true, .on_deadlock = ring, .ctx = bell};
    memset(bell, 0, sizeof *bell);
    memset(outcome, 0xA5, sizeof *outcome);
    return mtask_loop_run_ex(fn, arg, outcome, &desc);
}

/* Two tasks take two locks, each in its own order. */
typedef struct philosopher {
    mtask_mutex *first;
    mtask_mutex *second;
    bool refused;
} philosopher;

static void *dine(void *arg) {
    philosopher *self = (philosopher *)arg;
    mtask_status status;
    ck_assert_status(mtask_mutex_lock(self->first), MTASK_OK);
    take_turns();
    status = mtask_mutex_lock(self->second);
    if (status == MTASK_OK) /* the other one has given up before */
        ck_assert_status(mtask_mutex_unlock(self->second), MTASK_OK);
    ck_assert_status(mtask_mutex_unlock(self->first), MTASK_OK);
    self->refused = status == MTASK_DEADLOCK;
    testing_check(status == MTASK_OK || self->refused);
    return arg;
}

static void go_named(mtask_fn fn, void *arg, const char *name) {
    mtask_go_desc desc = {.fn = fn, .arg = arg, .name = name};
    ck_assert_status(mtask_go_ex(&desc), MTASK_OK);
}

static void *dine_together(void *arg) {
    mtask_mutex forks[2] = {{0}, {0}};
    philosopher one = {&forks[0], &forks[1], false}, other = {&forks[1], &forks[0], false};
    mtask_event never = {0};
    go_named(dine, &one, "Plato");
    go_named(dine, &other, "Kant");
    ck_assert_status(mtask_event_wait(&never, MTASK_FOREVER), MTASK_DEADLOCK);
    take_turns();
    take_turns();
    ck_assert(one.refused || other.refused);
    ck_assert(!mtask_mutex_is_locked(&forks[0]) && !mtask_mutex_is_locked(&forks[1]));
    return arg;
}

START_TEST(a_dead_lock_ends_all_waits_and_tells_who_waited) {
    alarm_bell bell;
    mtask_outcome outcome;
    ck_assert_status(run_alone(dine_together, NULL, &bell, &outcome), MTASK_DEADLOCK);
    ck_assert_status(outcome.status, MTASK_DEADLOCK);
    ck_assert_ptr_null(outcome.value);
    ck_assert_ptr_nonnull(strstr(outcome.text, "Plato"));
    ck_assert_ptr_nonnull(strstr(outcome.text, "Kant"));
    ck_assert_int_eq(bell.rings, 1);
    ck_assert_uint_eq(bell.tasks, 3);
    ck_assert_ptr_nonnull(bell.loop);
}
END_TEST

static mtask_status wait_on_future(boxed *box) {
    return mtask_future_get(box->future, NULL, MTASK_FOREVER);
}

static mtask_status wait_on_several(boxed *box) {
    return mtask_futures_wait(&box->future, 1, MTASK_WAIT_ANY, MTASK_FOREVER);
}

static mtask_status wait_on_mutex(boxed *box) {
    return mtask_mutex_lock(&box->held);
}

static mtask_status wait_on_read(boxed *box) {
    return mtask_rwlock_lock_read(&box->rwlock);
}

static mtask_status wait_on_write(boxed *box) {
    return mtask_rwlock_lock_write(&box->rwlock);
}

static mtask_status wait_on_event(boxed *box) {
    return mtask_event_wait(&box->event, MTASK_FOREVER);
}

static mtask_status wait_on_sem(boxed *box) {
    return mtask_sem_acquire(&box->sem, MTASK_FOREVER);
}

static mtask_status wait_on_group(boxed *box) {
    return mtask_waitgroup_wait(&box->group, MTASK_FOREVER);
}

static mtask_status wait_on_word(boxed *box) {
    return mtask_word_wait(&box->word, 0, MTASK_FOREVER, 0);
}

static mtask_status wait_on_cond(boxed *box) {
    mtask_mutex lock = {0};
    mtask_status status;
    ck_assert_status(mtask_mutex_lock(&lock), MTASK_OK);
    status = mtask_cond_wait(&box->cond, &lock, MTASK_FOREVER);
    ck_assert_status(mtask_mutex_unlock(&lock), MTASK_OK);
    return status;
}

static mtask_status wait_on_barrier(boxed *box) {
    mtask_barrier barrier;
    (void)box;
    ck_assert_status(mtask_barrier_init(&barrier, 2, NULL, NULL, 0), MTASK_OK);
    return mtask_barrier_wait(&barrier, NULL, MTASK_FOREVER);
}

static mtask_status wait_in_a_coroutine(boxed *box);

static mtask_status (*const endless_waits[])(boxed *box) = {
    wait_on_future,  wait_on_several, wait_on_mutex, wait_on_read,
    wait_on_write,   wait_on_event,   wait_on_sem,   wait_on_group,
    wait_on_barrier, wait_on_cond,    wait_on_word,  wait_in_a_coroutine};

static void *wait_as_coroutine(void *arg) {
    ck_assert_status(wait_on_event((boxed *)arg), MTASK_DEADLOCK);
    return arg;
}

static mtask_status wait_in_a_coroutine(boxed *box) {
    mtask_coro *coro = open_coro(wait_as_coroutine, box);
    ck_assert_status(mtask_coro_resume(coro, NULL, NULL), MTASK_DONE);
    end_coro(coro);
    return MTASK_DEADLOCK;
}

static void *wait_in_vain(void *arg) {
    boxed box;
    close_box(&box);
    for (long i = 0; i < COUNT_OF(endless_waits); i++) {
        mtask_status status = endless_waits[i](&box);
        if (status != MTASK_DEADLOCK)
            fprintf(stderr, "wait number %ld\n", i); /* tells which one it was */
        ck_assert_status(status, MTASK_DEADLOCK);
    }
    mtask_future_release(box.future);
    return arg;
}

START_TEST(whatever_waits_for_ever_is_told_of_a_dead_lock) {
    alarm_bell bell;
    mtask_outcome outcome;
    ck_assert_status(run_alone(wait_in_vain, NULL, &bell, &outcome), MTASK_DEADLOCK);
    ck_assert_int_eq(bell.rings, COUNT_OF(endless_waits));
}
END_TEST

static void *wait_for_oneself(void *arg) {
    mtask_future **self = (mtask_future **)arg;
    ck_assert_status(mtask_future_get(*self, NULL, MTASK_FOREVER), MTASK_DEADLOCK);
    return arg;
}

static void *wait_for_who_waits_for_itself(void *arg) {
    mtask_future *future = go(wait_for_oneself, &future);
    ck_assert_status(mtask_future_get(future, NULL, MTASK_FOREVER), MTASK_DEADLOCK);
    (void)take(mtask_future_retain(future));
    mtask_future_release(future);
    return arg;
}

START_TEST(a_task_that_waits_for_itself_is_a_dead_lock) {
    alarm_bell bell;
    mtask_outcome outcome;
    ck_assert_status(run_alone(wait_for_who_waits_for_itself, NULL, &bell, &outcome),
                     MTASK_DEADLOCK);
    ck_assert_int_eq(bell.rings, 1);
}
END_TEST

static void *wait_in_a_shield(void *arg) {
    mtask_event never = {0};
    ck_assert_status(mtask_sleep(LONG), MTASK_CANCELED);
    mtask_shield_begin();
    ck_assert_status(mtask_event_wait(&never, MTASK_FOREVER), MTASK_DEADLOCK);
    mtask_shield_end();
    return arg;
}

static void *leave_a_stubborn_task(void *arg) {
    go_named(wait_in_a_shield, NULL, "Zeno");
    take_turns();
    return arg;
}

START_TEST(what_is_left_may_be_dead_locked) {
    alarm_bell bell;
    mtask_outcome outcome;
    mtask_loop_desc desc = {.no_external_wakers = true};
    mtask_loop *loop;
    ck_assert_status(run_alone(leave_a_stubborn_task, NULL, &bell, &outcome), MTASK_DEADLOCK);
    ck_assert_ptr_nonnull(strstr(outcome.text, "Zeno"));
    loop = open_loop(&desc);
    go_alone(wait_in_a_shield, NULL);
    ck_assert_status(mtask_loop_step(loop, MTASK_NOWAIT), MTASK_OK);
    ck_assert_status(mtask_loop_destroy(loop), MTASK_DEADLOCK);
    ck_assert_ptr_null(mtask_loop_current());
}
END_TEST

START_TEST(a_step_finds_a_dead_lock) {
    alarm_bell bell = {.rings = 0};
    mtask_loop_desc desc = {.no_external_wakers = true, .on_deadlock = ring, .ctx = &bell};
    mtask_loop *loop = open_loop(&desc);
    mtask_event never = {0};
    mtask_future *future = go(wait_for_ever, &never);
    mtask_status status;
    do {
        status = mtask_loop_step(loop, MTASK_FOREVER);
    } while (status == MTASK_OK);
    ck_assert_status(status, MTASK_DEADLOCK);
    ck_assert_int_eq(bell.rings, 1);
    host_all(loop);
    ck_assert_int_eq((long)take(future), MTASK_DEADLOCK);
    close_loop(loop);
}
END_TEST

static void *sleep_and_set(void *arg) {
    ck_assert_status(mtask_sleep(MTASK_MS(2)), MTASK_OK);
    return set_event(arg);
}

/* Waits until somebody has set the event, and clears it. */
static void pass_event(mtask_event *event) {
    ck_assert_status(mtask_event_wait(event, MTASK_FOREVER), MTASK_OK);
    mtask_event_clear(event);
}

/* All that can end a wait without help from outside. */
static void *wait_with_reason(void *arg) {
    mtask_event event = {0};
    mtask_loop_call call = {.fn = set_posted_event, .arg = &event};
    mtask_limit limit;
    ck_assert_status(mtask_event_wait(&event, MTASK_MS(1)), MTASK_TIMEOUT);
    go_alone(sleep_and_set, &event);
    pass_event(&event);
    ck_assert_status(mtask_loop_post(mtask_loop_current(), &call), MTASK_OK);
    pass_event(&event);
    ck_assert_status(mtask_limit_begin(&limit, MTASK_MS(1)), MTASK_OK);
    ck_assert_status(mtask_event_wait(&event, MTASK_FOREVER), MTASK_CANCELED);
    ck_assert_status(mtask_limit_end(&limit), MTASK_TIMEOUT);
    return arg;
}

START_TEST(what_a_timer_or_a_posted_call_can_end_is_no_dead_lock) {
    alarm_bell bell;
    mtask_outcome outcome;
    ck_assert_status(run_alone(wait_with_reason, &bell, &bell, &outcome), MTASK_OK);
    ck_assert_ptr_eq(outcome.value, &bell);
    ck_assert_int_eq(bell.rings, 0);
}
END_TEST

static void *wait_for_a_thread(void *arg) {
    rush idle = {.over = 0};
    mtask_thread thread;
    start_thread(&thread, set_event_from_thread, &idle);
    ck_assert_status(mtask_event_wait(&idle.event, MTASK_FOREVER), MTASK_OK);
    join_thread(&thread);
    return arg;
}

START_TEST(a_loop_that_others_may_wake_knows_no_dead_lock) {
    alarm_bell bell = {.rings = 0};
    mtask_loop_desc desc = {.on_deadlock = ring, .ctx = &bell};
    ck_assert_status(mtask_loop_run_ex(wait_for_a_thread, NULL, NULL, &desc), MTASK_OK);
    ck_assert_int_eq(bell.rings, 0);
}
END_TEST

/* ---- what a loop is doing ---- */

static mtask_task_info info_of(const char *name) {
    mtask_task_info infos[16];
    size_t count = 0;
    ck_assert_status(mtask_loop_tasks(mtask_loop_current(), infos, 16, &count), MTASK_OK);
    for (size_t i = 0; i < count; i++)
        if (strcmp(infos[i].name, name) == 0)
            return infos[i];
    ck_abort_msg("there is no task of the name %s", name);
}

static void *wait_on_the_word(void *arg) {
    ck_assert_status(mtask_word_wait((mtask_word *)arg, 0, MTASK_FOREVER, 0), MTASK_OK);
    return arg;
}

static void *wait_a_while_on_the_word(void *arg) {
    ck_assert_status(mtask_word_wait((mtask_word *)arg, 0, MTASK_SEC(500), 0), MTASK_OK);
    return arg;
}

static void *look_at_self(void *arg) {
    mtask_task_info info = info_of("looker");
    ck_assert_str_eq(info.state, "running");
    ck_assert_uint_eq(info.id, mtask_task_id());
    ck_assert_ptr_null(info.word);
    ck_assert_int_eq(info.left, MTASK_FOREVER);
    ck_assert(!info.canceled);
    return arg;
}

static void *keep_ready(void *arg) {
    while (mtask_word_load((mtask_word *)arg) == 0)
        take_turns();
    return arg;
}

/* It has been so at least since a moment ago, and not since before `start`. */
static void check_waiting(const char *name, const char *state, const mtask_word *word,
                          int64_t start) {
    mtask_task_info info = info_of(name);
    ck_assert_str_eq(info.state, state);
    ck_assert_ptr_eq(info.word, word);
    ck_assert_int_ge(info.since, MTASK_MS(2));
    ck_assert_int_le(info.since, mtask_now() - start);
    ck_assert(!info.canceled);
}

static void check_left(const char *name, int64_t most) {
    int64_t left = info_of(name).left;
    ck_assert_int_gt(left, 0);
    ck_assert_int_le(left, most - MTASK_MS(2));
}

static void *look_at_others(void *arg) {
    mtask_word word = 0;
    int64_t start = *(int64_t *)arg;
    go_named(wait_on_the_word, &word, "waiter");
    go_named(wait_a_while_on_the_word, &word, "timed");
    go_named(sleep_long, &word, "sleeper");
    go_named(keep_ready, &word, "ready");
    take_turns();
    ck_assert_status(mtask_sleep(MTASK_MS(2)), MTASK_OK);
    go_named(look_at_self, NULL, "looker");
    check_waiting("waiter", "waiting", &word, start);
    check_waiting("timed", "waiting", &word, start);
    check_waiting("sleeper", "sleeping", NULL, start);
    ck_assert_int_eq(info_of("waiter").left, MTASK_FOREVER);
    check_left("timed", MTASK_SEC(500));
    check_left("sleeper", LONG);
    ck_assert_str_eq(info_of("ready").state, "ready");
    ck_assert_ptr_null(info_of("ready").word);
    ck_assert_str_eq(info_of("looker").state, "ready");
    mtask_word_store(&word, 1);
    mtask_word_wake(&word, INT32_MAX, 0);
    ck_assert_str_eq(info_of("waiter").state, "ready");
    ck_assert_ptr_null(info_of("waiter").word);
    take_turns();
    return arg;
}

START_TEST(a_loop_tells_what_its_tasks_do) {
    int64_t start = mtask_now();
    (void)in_loop(look_at_others, &start);
}
END_TEST

static void *list_tasks(void *arg) {
    static const char *const names[] = {"one", "two", "three"};
    mtask_task_info infos[4];
    size_t count = 99;
    uint64_t id = 0;
    mtask_loop *loop = mtask_loop_current();
    for (int i = 0; i < 3; i++)
        go_named(sleep_long, NULL, names[i]);
    take_turns();
    ck_assert_status(mtask_loop_tasks(loop, infos, 4, &count), MTASK_OK);
    ck_assert_uint_eq(count, 4);
    ck_assert_uint_eq(infos[0].id, mtask_task_id());
    ck_assert_str_eq(infos[0].name, "main");
    for (int i = 0; i < 3; i++) {
        ck_assert_str_eq(infos[i + 1].name, names[i]);
        testing_check(infos[i + 1].id != 0 && infos[i + 1].id != id);
        id = infos[i + 1].id;
    }
    memset(infos, 0, sizeof infos);
    ck_assert_status(mtask_loop_tasks(loop, infos, 2, &count), MTASK_OVERFLOW);
    ck_assert_uint_eq(count, 4);
    ck_assert_str_eq(infos[1].name, "one");
    ck_assert_ptr_null(infos[2].name);
    count = 99;
    ck_assert_status(mtask_loop_tasks(loop, NULL, 0, &count), MTASK_OVERFLOW);
    ck_assert_uint_eq(count, 4);
    return arg;
}

START_TEST(a_loop_lists_its_tasks_oldest_first) {
    (void)in_loop(list_tasks, NULL);
}
END_TEST

static void *clean_up_slowly(void *arg) {
    ck_assert_status(mtask_sleep(LONG), MTASK_CANCELED);
    mtask_shield_begin();
    ck_assert_status(mtask_event_wait((mtask_event *)arg, LONG), MTASK_OK);
    mtask_shield_end();
    return arg;
}

static void *look_at_a_cancelled_one(void *arg) {
    mtask_event event = {0};
    mtask_future *future = NULL;
    mtask_go_desc desc = {
        .fn = clean_up_slowly, .arg = &event, .name = "stopped", .future = &future};
    ck_assert_status(mtask_go_ex(&desc), MTASK_OK);
    take_turns();
    ck_assert(!info_of("stopped").canceled);
    ck_assert_status(mtask_future_cancel(future), MTASK_OK);
    ck_assert(info_of("stopped").canceled);
    take_turns();
    ck_assert(info_of("stopped").canceled);
    ck_assert_str_eq(info_of("stopped").state, "waiting");
    mtask_event_set(&event);
    (void)take(future);
    return arg;
}

START_TEST(a_loop_tells_who_is_cancelled) {
    (void)in_loop(look_at_a_cancelled_one, NULL);
}
END_TEST

/* Uses a good part of a stack, down to the last byte of it, and sleeps there. */
static void *sleep_deep(void *arg) {
    volatile char room[60000];
    for (size_t i = 0; i < sizeof room; i++)
        room[i] = 1;
    ck_assert_status(mtask_sleep(LONG), MTASK_CANCELED);
    ck_assert_int_eq(room[0] + room[sizeof room - 1], 2);
    return arg;
}

static void *look_at_stacks(void *arg) {
    size_t size = *(size_t *)arg;
    mtask_go_desc desc = {.fn = sleep_deep, .name = "deep", .stack_size = 4 * size};
    mtask_task_info deep, flat;
    ck_assert_status(mtask_go_ex(&desc), MTASK_OK);
    go_named(sleep_long, NULL, "flat");
    take_turns();
    deep = info_of("deep");
    flat = info_of("flat");
    ck_assert_uint_ge(flat.stack_size, size - 16384); /* guard and bookkeeping lie in it */
    ck_assert_uint_ge(deep.stack_size, 4 * size - 16384);
    ck_assert_uint_ge(flat.stack_used, 1);
    ck_assert_uint_lt(flat.stack_used, flat.stack_size);
    if (!TESTING_ASAN) /* which may have put the array elsewhere */
        ck_assert_uint_ge(deep.stack_used, 60000);
    ck_assert_uint_lt(deep.stack_used, deep.stack_size);
    ck_assert_uint_le(mtask_coro_stack_left(), flat.stack_size);
    return arg;
}

START_TEST(a_loop_tells_how_much_stack_its_tasks_use) {
    mtask_loop_desc desc = {.stack_size = 131072};
    ck_assert_status(mtask_loop_run_ex(look_at_stacks, &desc.stack_size, NULL, &desc), MTASK_OK);
}
END_TEST

/* How many lines of the text hold the word. */
static int lines_with(const char *text, const char *word) {
    int count = 0;
    while ((text = strstr(text, word)) != NULL) {
        count++;
        text += strcspn(text, "\n");
    }
    return count;
}

static size_t dump_into(char *text, size_t size) {
    FILE *file = tmpfile();
    size_t length;
    testing_check(file != NULL);
    ck_assert_status(mtask_loop_dump(mtask_loop_current(), fileno(file)), MTASK_OK);
    rewind(file);
    length = fread(text, 1, size - 1, file);
    text[length] = '\0';
    fclose(file);
    return length;
}

static void *dump(void *arg) {
    char text[8192];
    static mtask_event event; /* waited on when this task has ended */
    go_named(wait_for_ever, &event, "Sisyphus");
    go_named(sleep_long, NULL, "Endymion");
    take_turns();
    go_named(return_arg, NULL, "Atalanta");
    testing_check(dump_into(text, sizeof text) > 0);
    fprintf(stderr, "%s", text);
    ck_assert_int_eq(lines_with(text, "Sisyphus"), 1);
    ck_assert_int_eq(lines_with(text, "Endymion"), 1);
    ck_assert_int_eq(lines_with(text, "Atalanta"), 1);
    ck_assert_int_ge(lines_with(text, "running"), 1);
    ck_assert_int_ge(lines_with(text, "ready"), 1);
    ck_assert_int_ge(lines_with(text, "waiting"), 1);
    ck_assert_int_ge(lines_with(text, "sleeping"), 1);
    ck_assert_int_eq(text[strlen(text) - 1], '\n');
    errno = 0;
    ck_assert_status(mtask_loop_dump(mtask_loop_current(), -1), MTASK_SYSTEM);
    ck_assert_int_eq(errno, EBADF);
    mtask_event_set(&event);
    return arg;
}

START_TEST(a_dump_has_a_line_for_each_task) {
    (void)in_loop(dump, NULL);
}
END_TEST

static void *dump_many(void *arg) {
    char text[65536];
    char names[100][16];
    for (int i = 0; i < 100; i++) {
        snprintf(names[i], sizeof names[i], "<%d>", i);
        go_named(sleep_long, NULL, names[i]);
    }
    take_turns();
    testing_check(dump_into(text, sizeof text) < sizeof text - 1);
    for (int i = 0; i < 100; i++)
        ck_assert_int_eq(lines_with(text, names[i]), 1);
    return arg;
}

START_TEST(a_dump_leaves_no_task_out) {
    mtask_loop_desc desc = {.stack_size = 524288};
    ck_assert_status(mtask_loop_run_ex(dump_many, NULL, NULL, &desc), MTASK_OK);
}
END_TEST

/* ---- values of a task ---- */

static mtask_coro_local local;
static long destroyed; /* the sum of the values that the destructor has seen */
static uint64_t destroyed_in;

static void destroy_value(void *value) {
    destroyed += (long)value;
    destroyed_in = mtask_task_id();
}

static void open_local(void) {
    memset(&local, 0, sizeof local);
    ck_assert_status(mtask_coro_local_init(&local, destroy_value), MTASK_OK);
    ck_assert_ptr_null(mtask_coro_local_get(&local));
}

static void close_local(void) {
    ck_assert_status(mtask_coro_local_deinit(&local), MTASK_OK);
}

static void *keep_value(void *arg) {
    ck_assert_ptr_null(mtask_coro_local_get(&local));
    ck_assert_status(mtask_coro_local_set(&local, arg), MTASK_OK);
    for (int i = 0; i < 3; i++) {
        take_turns();
        ck_assert_ptr_eq(mtask_coro_local_get(&local), arg);
    }
    return arg;
}

static void *keep_values(void *arg) {
    mtask_future *futures[4];
    ck_assert_ptr_null(mtask_coro_local_get(&local));
    ck_assert_status(mtask_coro_local_set(&local, arg), MTASK_OK);
    for (long i = 0; i < COUNT_OF(futures); i++)
        futures[i] = go(keep_value, (void *)(i + 1));
    for (long i = 0; i < COUNT_OF(futures); i++)
        (void)take(futures[i]);
    ck_assert_int_eq(destroyed, 1 + 2 + 3 + 4);
    ck_assert_ptr_eq(mtask_coro_local_get(&local), arg);
    destroyed = 0;
    (void)take(go(return_arg, NULL)); /* has none */
    ck_assert_int_eq(destroyed, 0);
    return arg;
}

START_TEST(each_task_has_a_value_of_its_own) {
    open_local();
    ck_assert_status(mtask_coro_local_set(&local, (void *)100), MTASK_OK);
    (void)in_loop(keep_values, (void *)50);
    ck_assert_int_eq(destroyed, 50);
    ck_assert_ptr_eq(mtask_coro_local_get(&local), (void *)100);
    ck_assert_status(mtask_coro_local_set(&local, NULL), MTASK_OK);
    close_local();
}
END_TEST

static void *keep_as_thread(void *arg) {
    ck_assert_ptr_null(mtask_coro_local_get(&local));
    ck_assert_status(mtask_coro_local_set(&local, arg), MTASK_OK);
    ck_assert_ptr_eq(mtask_coro_local_get(&local), arg);
    return arg;
}

START_TEST(outside_of_loops_each_thread_has_a_value_of_its_own) {
    mtask_thread threads[3];
    open_local();
    for (long i = 0; i < 3; i++) { /* one after the other: the destructor is not atomic */
        start_thread(&threads[i], keep_as_thread, (void *)(i + 1));
        join_thread(&threads[i]);
    }
    ck_assert_int_eq(destroyed, 1 + 2 + 3);
    ck_assert_ptr_null(mtask_coro_local_get(&local));
    close_local();
}
END_TEST

static void *read_in_coroutine(void *arg) {
    ck_assert_ptr_eq(mtask_coro_local_get(&local), (void *)7);
    ck_assert_status(mtask_coro_local_set(&local, (void *)8), MTASK_OK);
    return arg;
}

static void *keep_in_coroutine(void *arg) {
    mtask_coro *coro = open_coro(read_in_coroutine, NULL);
    ck_assert_status(mtask_coro_local_set(&local, (void *)7), MTASK_OK);
    ck_assert_status(mtask_coro_resume(coro, NULL, NULL), MTASK_DONE);
    end_coro(coro);
    ck_assert_int_eq(destroyed, 0);
    ck_assert_ptr_eq(mtask_coro_local_get(&local), (void *)8);
    return arg;
}

START_TEST(in_coroutines_the_value_is_the_tasks) {
    open_local();
    (void)in_loop(keep_in_coroutine, NULL);
    ck_assert_int_eq(destroyed, 8);
    close_local();
}
END_TEST

static void *tell_value(void *arg) {
    *(uint64_t *)arg = mtask_task_id();
    ck_assert_status(mtask_coro_local_set(&local, (void *)1), MTASK_OK);
    ck_assert_status(mtask_coro_local_set(&local, NULL), MTASK_OK);
    ck_assert_status(mtask_coro_local_set(&local, (void *)3), MTASK_OK);
    ck_assert_status(mtask_sleep(LONG), MTASK_CANCELED);
    return mtask_fail(MTASK_CANCELED, NULL);
}

static void *cancel_one_with_a_value(void *arg) {
    uint64_t id = 0;
    mtask_future *future = go(tell_value, &id);
    take_turns();
    ck_assert_status(mtask_future_cancel(future), MTASK_OK);
    ck_assert_status(mtask_future_get(future, NULL, LONG), MTASK_FAILED);
    mtask_future_release(future);
    ck_assert_int_eq(destroyed, 3);
    ck_assert_uint_eq(destroyed_in, id);
    return arg;
}

START_TEST(a_value_is_destroyed_at_the_tasks_end_in_the_task) {
    open_local();
    (void)in_loop(cancel_one_with_a_value, NULL);
    close_local();
}
END_TEST

static void *keep_many(void *arg) {
    mtask_coro_local *locals = (mtask_coro_local *)arg;
    for (long i = 0; i < 40; i++)
        ck_assert_status(mtask_coro_local_set(&locals[i], (void *)(i + 1)), MTASK_OK);
    take_turns();
    for (long i = 0; i < 40; i++)
        ck_assert_ptr_eq(mtask_coro_local_get(&locals[i]), (void *)(i + 1));
    return arg;
}

static void *keep_many_together(void *arg) {
    mtask_future *futures[3];
    for (int i = 0; i < 3; i++)
        futures[i] = go(keep_many, arg);
    for (int i = 0; i < 3; i++)
        (void)take(futures[i]);
    return arg;
}

START_TEST(a_task_may_have_many_values) {
    static mtask_coro_local locals[40];
    for (int i = 0; i < 40; i++)
        ck_assert_status(mtask_coro_local_init(&locals[i], i % 2 == 0 ? destroy_value : NULL),
                         MTASK_OK);
    (void)in_loop(keep_many_together, locals);
    ck_assert_int_eq(destroyed, 3 * 400);
    for (int i = 0; i < 40; i++)
        ck_assert_status(mtask_coro_local_deinit(&locals[i]), MTASK_OK);
}
END_TEST

START_TEST(a_value_must_be_initialised_first) {
    memset(&local, 0, sizeof local);
    ck_assert_status(mtask_coro_local_set(&local, &local), MTASK_INVALID);
    ck_assert_status(mtask_coro_local_deinit(&local), MTASK_INVALID);
    open_local();
    ck_assert_status(mtask_coro_local_init(&local, NULL), MTASK_INVALID);
    close_local();
    ck_assert_status(mtask_coro_local_deinit(&local), MTASK_INVALID);
}
END_TEST

#ifdef __linux__
# define ON_LINUX_ONLY a_loop_lies_in_the_epoll_set_of_a_host,
#else
# define ON_LINUX_ONLY
#endif

TESTING_MAIN(
    "mtask_loop", ON_LINUX_ONLY run_returns_what_its_function_returns,
    run_tells_how_its_function_failed, a_thread_runs_one_loop_at_a_time, a_task_finds_its_loop,
    without_a_loop_no_task_can_be_started, a_task_needs_a_function,
    what_is_left_is_cancelled_and_waited_for, what_is_left_may_wait_for_threads_in_a_shield,
    what_has_not_begun_when_the_loop_ends_never_runs, a_loop_that_ends_takes_no_more_tasks,
    a_loop_that_ends_takes_no_more_tasks_from_threads, all_tasks_of_a_loop_can_be_cancelled,
    tasks_begin_in_the_order_in_which_they_were_started,
    tasks_started_by_tasks_go_behind_the_others, tasks_that_yield_take_turns,
    tasks_run_in_the_order_in_which_they_became_ready, a_task_may_run_at_once,
    tasks_that_run_at_once_may_start_others_that_do,
    only_a_task_of_the_loop_starts_one_that_runs_at_once,
    many_tasks_may_run_at_once_one_after_the_other, tasks_that_only_yield_starve_nobody,
    tasks_that_wake_each_other_starve_nobody, calls_that_post_themselves_starve_nobody,
    sleepers_wake_in_the_order_of_their_deadlines, equal_deadlines_pass_in_the_order_of_arrival,
    thousands_of_sleepers_wake_in_order, a_deadline_never_comes_early,
    a_deadline_too_far_for_the_clock_never_comes, each_thread_runs_a_loop_of_its_own,
    threads_start_tasks_on_a_loop, tasks_of_one_loop_wait_for_tasks_of_another,
    a_loop_may_be_named_by_its_own_tasks, a_loop_may_end_with_tasks_that_threads_have_started,
    posted_calls_are_called_in_order_between_two_tasks, a_call_posted_several_times_is_called_once,
    a_call_needs_a_function, a_posted_call_may_post_itself, a_posted_call_may_start_tasks,
    threads_post_calls_to_an_idle_loop, threads_may_post_the_same_call,
    signal_handlers_may_post_calls, a_signal_handler_wakes_an_idle_loop,
    what_was_not_called_when_the_loop_ended_is_not_called_any_more, a_posted_call_must_not_wait,
    an_idle_loop_uses_no_cpu, a_loop_that_sleeps_for_parts_of_milliseconds_uses_no_cpu,
    errno_is_a_tasks_own, each_task_has_a_number_of_its_own, a_recursive_lock_belongs_to_a_task,
    each_task_fails_for_itself, a_child_forked_by_a_task_has_no_loop, any_task_may_fork,
    a_loop_goes_on_when_another_thread_forks, the_future_tells_how_far_a_task_is,
    the_future_tells_why_a_task_failed, tasks_and_threads_wait_for_the_same_task,
    a_task_of_another_loop_waits_for_a_task, a_future_may_be_given_back_before_the_task_ends,
    callbacks_hear_of_the_end_of_a_task, a_task_waits_for_several_others,
    a_task_takes_others_as_they_end, a_task_cancelled_before_it_begins_never_runs,
    those_that_never_run_leave_nothing_behind, a_task_cancelled_while_it_waits_is_told_by_that_wait,
    a_task_may_cancel_itself, a_thread_cancels_a_task, whom_a_cancelled_task_waits_for_goes_on,
    threads_may_cancel_at_any_moment, a_step_tells_what_is_left,
    a_step_waits_for_what_becomes_ready, a_loop_is_run_by_its_own_thread_and_not_by_its_tasks,
    a_host_sees_what_a_loop_has_to_do, a_host_sleeps_until_tasks_can_go_on,
    the_descriptor_tells_of_timers, posts_from_threads_reach_a_host,
    a_loop_that_is_destroyed_cancels_and_awaits_its_tasks, a_host_cancels_all_tasks,
    a_forked_child_cannot_step_the_loop_of_a_host, a_dead_lock_ends_all_waits_and_tells_who_waited,
    whatever_waits_for_ever_is_told_of_a_dead_lock, a_task_that_waits_for_itself_is_a_dead_lock,
    what_is_left_may_be_dead_locked, a_step_finds_a_dead_lock,
    what_a_timer_or_a_posted_call_can_end_is_no_dead_lock,
    a_loop_that_others_may_wake_knows_no_dead_lock, a_loop_tells_what_its_tasks_do,
    a_loop_lists_its_tasks_oldest_first, a_loop_tells_who_is_cancelled,
    a_loop_tells_how_much_stack_its_tasks_use, a_dump_has_a_line_for_each_task,
    a_dump_leaves_no_task_out, each_task_has_a_value_of_its_own,
    outside_of_loops_each_thread_has_a_value_of_its_own, in_coroutines_the_value_is_the_tasks,
    a_value_is_destroyed_at_the_tasks_end_in_the_task, a_task_may_have_many_values,
    a_value_must_be_initialised_first)
