/* testing.h - what every Check program of mtask starts with

   A test program is one file, tests/test_NAME.c. It includes only this header first, then what else
   it needs, holds START_TEST(what_it_shows) ... END_TEST, and ends in

       TESTING_MAIN("NAME", first_test, second_test)

   tests/run.sh compiles it in every configuration and links it with tests/mtask_impl.c, unless the
   file defines MTASK_IMPLEMENTATION itself (to inject failures, say): then it stands alone.
   A line `testing-ldflags: -Wl,--wrap=malloc` in a comment adds to its link command.

   Each test runs in a process of its own that is killed after TEST_TIMEOUT seconds, so a hang is a
   failure. Stress tests draw from testing_seed and take their rounds from testing_scale. */
#ifndef MTASK_TESTING_H
#define MTASK_TESTING_H

#ifndef _GNU_SOURCE
# define _GNU_SOURCE 1
#endif
#include "../mtask.h"

#include <check.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

/* Seconds until a test counts as hung; a file may set its own before the include. The environment's
   CK_TIMEOUT_MULTIPLIER stretches it (run.sh: under sanitizers). */
#ifndef TEST_TIMEOUT
# define TEST_TIMEOUT 30
#endif

#if defined(__has_feature)
# if __has_feature(thread_sanitizer)
#  define TESTING_TSAN 1
# endif
# if __has_feature(address_sanitizer)
#  define TESTING_ASAN 1
# endif
#endif
#if !defined(TESTING_TSAN) && defined(__SANITIZE_THREAD__)
# define TESTING_TSAN 1
#endif
#if !defined(TESTING_ASAN) && defined(__SANITIZE_ADDRESS__)
# define TESTING_ASAN 1
#endif
#ifndef TESTING_TSAN
# define TESTING_TSAN 0 /* built with ThreadSanitizer */
#endif
#ifndef TESTING_ASAN
# define TESTING_ASAN 0 /* built with AddressSanitizer */
#endif

#define TESTING_UNUSED __attribute__((unused))

/* Fails the test unless `actual`, an mtask_status, is `expected`. Costs a comparison when it holds:
   it takes no lock, as ck_assert does, so it hides no data race and may stand in a hot loop. From
   any thread. */
#define ck_assert_status(actual, expected)                                                         \
 testing_status_is((actual), (expected), #actual, __FILE__, __LINE__)

/* Fails the test unless `condition` holds; as cheap, for hot loops and for other threads. */
#define testing_check(condition)                                                                   \
 ((condition) ? (void)0 : _ck_assert_failed(__FILE__, __LINE__, "Check", "%s", #condition))

static TESTING_UNUSED void testing_status_is(mtask_status actual, mtask_status expected,
                                             const char *what, const char *file, int line) {
    if (actual != expected)
        _ck_assert_failed(file, line, "Status", "%s is %s, not %s", what, mtask_status_name(actual),
                          mtask_status_name(expected));
}

/* How many rounds to run of the `rounds` that are right for an optimised build: fewer where each
   costs more, at least 1. MTASK_TEST_SCALE in the environment, a percentage, is for long runs. */
static TESTING_UNUSED long testing_scale(long rounds) {
    const char *percent = getenv("MTASK_TEST_SCALE");
#if TESTING_TSAN
    rounds /= 16;
#elif TESTING_ASAN
    rounds /= 6;
#elif !defined(__OPTIMIZE__)
    rounds /= 2;
#endif
    if (percent != NULL && atol(percent) > 0)
        rounds = rounds * atol(percent) / 100;
    return rounds > 0 ? rounds : 1;
}

/* A seed for this test, printed so that a failure can be had again: MTASK_TEST_SEED from the
   environment, or else one that differs from run to run. Never 0. */
static TESTING_UNUSED uint64_t testing_seed(void) {
    const char *given = getenv("MTASK_TEST_SEED");
    uint64_t seed = given != NULL ? strtoull(given, NULL, 0) : 0;
    if (seed == 0) {
        struct timespec now;
        clock_gettime(CLOCK_REALTIME, &now);
        seed = ((uint64_t)now.tv_nsec << 20 ^ (uint64_t)now.tv_sec ^ (uint64_t)getpid() << 40) | 1;
    }
    fprintf(stderr, "MTASK_TEST_SEED=%llu\n", (unsigned long long)seed);
    return seed;
}

/* A source of random numbers; give each thread its own, made from one seed and its index. */
typedef struct testing_random {
    uint64_t state;
} testing_random;

/* The next number (xorshift64*). */
static TESTING_UNUSED uint64_t testing_next(testing_random *random) {
    uint64_t x = random->state;
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    random->state = x;
    return x * UINT64_C(2685821657736338717);
}

/* Source number `index` of a seed. */
static TESTING_UNUSED testing_random testing_random_make(uint64_t seed, unsigned index) {
    testing_random random = {(seed + index) * UINT64_C(0x9e3779b97f4a7c15) | 1};
    (void)testing_next(&random);
    return random;
}

/* A number from 0 to `limit` - 1. */
static TESTING_UNUSED uint64_t testing_below(testing_random *random, uint64_t limit) {
    return (testing_next(random) >> 11) % limit;
}

/* ---- forked children, in which Check's own assertions are the parent's ---- */

static TESTING_UNUSED void child_check(bool holds, const char *file, int line) {
    if (holds)
        return;
    dprintf(2, "%s:%d: failed in the child\n", file, line);
    _exit(1);
}

#define IN_CHILD(condition) child_check((condition), __FILE__, __LINE__)

/* Forks; a child that hangs is killed. */
static TESTING_UNUSED pid_t fork_child(void) {
    pid_t pid;
    fflush(NULL);
    pid = fork();
    testing_check(pid >= 0);
    if (pid == 0) {
        signal(SIGALRM, SIG_DFL); /* Check's handler would kill the test as well */
        alarm((TESTING_TSAN || TESTING_ASAN) ? 100 : 20);
    }
    return pid;
}

/* Runs a suite and returns main's exit code. CK_VERBOSITY, CK_FORK and Check's other variables
   work. */
static TESTING_UNUSED int testing_main(Suite *suite) {
    SRunner *runner = srunner_create(suite);
    int failed;
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    if (srunner_ntests_run(runner) == 0)
        failed = 1; /* a program that tests nothing shows nothing */
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

/* Makes a suite of `count` tests that have TEST_TIMEOUT seconds each. */
static TESTING_UNUSED Suite *testing_suite(const char *name, const TTest *const *tests,
                                           size_t count) {
    Suite *suite = suite_create(name);
    TCase *tcase = tcase_create(name);
    tcase_set_timeout(tcase, TEST_TIMEOUT);
    for (size_t i = 0; i < count; i++)
        tcase_add_test(tcase, tests[i]);
    suite_add_tcase(suite, tcase);
    return suite;
}

/* The main function of a test program: its name, and the names given to START_TEST. */
#define TESTING_MAIN(name, ...)                                                                    \
 int main(void) {                                                                                  \
  const TTest *const tests[] = {__VA_ARGS__};                                                      \
  return testing_main(testing_suite(name, tests, sizeof tests / sizeof tests[0]));                 \
 }

#endif /* MTASK_TESTING_H */
