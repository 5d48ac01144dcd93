/* test_mtask_time.c - the clock, deadlines, sleeping, and the number of CPUs */
#include "testing.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string.h>

/* The system's monotonic clock, in nanoseconds. */
static int64_t system_now(void) {
    struct timespec now;
    ck_assert_int_eq(clock_gettime(CLOCK_MONOTONIC, &now), 0);
    return MTASK_SEC(now.tv_sec) + now.tv_nsec;
}

START_TEST(the_clock_never_goes_back) {
    int64_t last = mtask_now();
    ck_assert_int_ge(last, 0);
    for (int i = 0; i < 100000; i++) {
        int64_t now = mtask_now();
        testing_check(now >= last);
        last = now;
    }
}
END_TEST

START_TEST(the_clock_counts_nanoseconds) {
    int64_t outer = system_now(), inner, begin, end;
    begin = mtask_now();
    inner = system_now();
    while (system_now() - inner < MTASK_MS(20)) {
    }
    inner = system_now() - inner;
    end = mtask_now();
    outer = system_now() - outer;
    ck_assert_int_ge(end - begin, inner);
    ck_assert_int_le(end - begin, outer);
}
END_TEST

START_TEST(units_are_nanoseconds) {
    ck_assert_int_eq(MTASK_US(3), 3000);
    ck_assert_int_eq(MTASK_MS(20), 20000000);
    ck_assert_int_eq(MTASK_SEC(5), INT64_C(5000000000));
    ck_assert_int_eq(MTASK_SEC(10 * 365 * 86400), INT64_C(315360000000000000));
    ck_assert_int_eq(MTASK_NOWAIT, 0);
    ck_assert_int_eq(MTASK_FOREVER, INT64_MAX);
    ck_assert_int_eq(MTASK_MS(1 + 1), MTASK_US(2000));
}
END_TEST

START_TEST(a_deadline_lies_as_far_ahead_as_asked) {
    static const int64_t timeouts[] = {0, 1, MTASK_MS(3), MTASK_SEC(100 * 365 * 86400LL)};
    for (size_t i = 0; i < sizeof timeouts / sizeof timeouts[0]; i++) {
        int64_t before = mtask_now(), deadline = mtask_deadline(timeouts[i]), after = mtask_now();
        ck_assert_int_ge(deadline, before + timeouts[i]);
        ck_assert_int_le(deadline, after + timeouts[i]);
    }
}
END_TEST

START_TEST(forever_has_no_deadline_and_nor_has_what_does_not_fit) {
    ck_assert_int_eq(mtask_deadline(MTASK_FOREVER), MTASK_FOREVER);
    ck_assert_int_eq(mtask_deadline(MTASK_FOREVER - 1), MTASK_FOREVER);
    ck_assert_int_eq(mtask_deadline(MTASK_FOREVER - mtask_now()), MTASK_FOREVER);
}
END_TEST

START_TEST(a_negative_timeout_has_no_deadline) {
    ck_assert_int_eq(mtask_deadline(-1), -1);
    ck_assert_int_eq(mtask_deadline(INT64_MIN), -1);
}
END_TEST

START_TEST(until_is_what_is_left) {
    int64_t deadline = mtask_now() + MTASK_SEC(1000), before = mtask_now();
    int64_t left = mtask_until(deadline), after = mtask_now();
    ck_assert_int_le(left, deadline - before);
    ck_assert_int_ge(left, deadline - after);
    ck_assert_int_eq(mtask_until(MTASK_FOREVER), MTASK_FOREVER);
    ck_assert_int_le(mtask_until(MTASK_FOREVER - 1), MTASK_FOREVER - 1 - before);
}
END_TEST

START_TEST(until_a_deadline_that_has_passed_is_no_time) {
    ck_assert_int_eq(mtask_until(mtask_now()), 0);
    ck_assert_int_eq(mtask_until(mtask_now() - MTASK_SEC(1)), 0);
    ck_assert_int_eq(mtask_until(0), 0);
}
END_TEST

START_TEST(sleep_takes_never_less_than_asked) {
    static const int64_t durations[] = {0, 1, MTASK_US(50), MTASK_MS(1), MTASK_MS(15)};
    for (size_t i = 0; i < 5 * sizeof durations / sizeof durations[0]; i++) {
        int64_t before = system_now(), duration = durations[i / 5];
        ck_assert_status(mtask_sleep(duration), MTASK_OK);
        ck_assert_int_ge(system_now() - before, duration);
    }
}
END_TEST

START_TEST(sleep_refuses_a_negative_duration) {
    ck_assert_status(mtask_sleep(-1), MTASK_INVALID);
    ck_assert_status(mtask_sleep(INT64_MIN), MTASK_INVALID);
}
END_TEST

static mtask_word sleeper_done, signals_taken;

static void on_signal(int number) {
    (void)number;
    mtask_word_add(&signals_taken, 1);
}

static void *sleep_through(void *arg) {
    int64_t before = system_now();
    ck_assert_status(mtask_sleep(MTASK_MS(30)), MTASK_OK);
    testing_check(system_now() - before >= MTASK_MS(30));
    mtask_word_store(&sleeper_done, 1);
    return arg;
}

START_TEST(signals_do_not_shorten_a_sleep) {
    struct sigaction action;
    pthread_t sleeper;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_signal; /* no SA_RESTART */
    ck_assert_int_eq(sigaction(SIGUSR1, &action, NULL), 0);
    ck_assert_int_eq(pthread_create(&sleeper, NULL, sleep_through, NULL), 0);
    while (mtask_word_load(&sleeper_done) == 0) {
        struct timespec pause = {0, 2000000};
        ck_assert_int_eq(pthread_kill(sleeper, SIGUSR1), 0);
        nanosleep(&pause, NULL);
    }
    ck_assert_int_eq(pthread_join(sleeper, NULL), 0);
    ck_assert_uint_gt(mtask_word_load(&signals_taken), 0);
}
END_TEST

START_TEST(sleeping_until_a_deadline_reaches_it) {
    int64_t deadline = mtask_deadline(MTASK_MS(1));
    while (mtask_until(deadline) > 0)
        ck_assert_status(mtask_sleep(mtask_until(deadline)), MTASK_OK);
    ck_assert_int_ge(mtask_now(), deadline);
}
END_TEST

START_TEST(there_is_at_least_one_cpu_and_none_beyond_the_affinity) {
    cpu_set_t allowed;
    ck_assert_int_eq(sched_getaffinity(0, sizeof allowed, &allowed), 0);
    ck_assert_uint_ge(mtask_cpu_count(), 1);
    ck_assert_uint_le(mtask_cpu_count(), (unsigned)CPU_COUNT(&allowed));
}
END_TEST

START_TEST(the_cpu_count_follows_the_affinity) {
    cpu_set_t allowed, one;
    ck_assert_int_eq(sched_getaffinity(0, sizeof allowed, &allowed), 0);
    for (unsigned cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (!CPU_ISSET(cpu, &allowed))
            continue;
        CPU_ZERO(&one);
        CPU_SET(cpu, &one);
        ck_assert_int_eq(sched_setaffinity(0, sizeof one, &one), 0);
        ck_assert_uint_eq(mtask_cpu_count(), 1); /* it reads the system each time */
    }
    ck_assert_int_eq(sched_setaffinity(0, sizeof allowed, &allowed), 0);
    ck_assert_uint_ge(mtask_cpu_count(), 1);
}
END_TEST

TESTING_MAIN("time", the_clock_never_goes_back, the_clock_counts_nanoseconds, units_are_nanoseconds,
             a_deadline_lies_as_far_ahead_as_asked,
             forever_has_no_deadline_and_nor_has_what_does_not_fit,
             a_negative_timeout_has_no_deadline, until_is_what_is_left,
             until_a_deadline_that_has_passed_is_no_time, sleep_takes_never_less_than_asked,
             sleep_refuses_a_negative_duration, signals_do_not_shorten_a_sleep,
             sleeping_until_a_deadline_reaches_it,
             there_is_at_least_one_cpu_and_none_beyond_the_affinity,
             the_cpu_count_follows_the_affinity)
