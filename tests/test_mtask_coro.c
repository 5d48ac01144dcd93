/* test_mtask_coro.c - generators and greenlets: coroutines that are resumed by hand
   testing-ldflags: -lm */
#include "testing_coro.h"

#include <errno.h>
#include <fenv.h>

/* Bytes of a stack on which a small function runs: sanitizers make frames larger, and call
   functions of their own at each switch. */
#define SMALL_STACK (TESTING_TSAN || TESTING_ASAN ? 65536 : 8192)

/* ---- helpers ---- */

/* How many coroutines to make, one after the other: ThreadSanitizer takes a millisecond for each. */
static long lives(long count) {
    return testing_scale(TESTING_TSAN ? count / 10 : count);
}

static void *return_arg(void *arg) {
    return arg;
}

static void *fail_at_once(void *text) {
    return mtask_fail(MTASK_BROKEN, "%s", (const char *)text);
}

/* Yields whatever it is resumed with, the first time its argument, until it is closed. */
static void *echo(void *arg) {
    void *item = arg;
    while (mtask_coro_yield(item, &item) == MTASK_OK) {
    }
    return NULL;
}

/* Adds one to the number when it is closed. */
static void *count_closing(void *number) {
    while (mtask_coro_yield(number, NULL) == MTASK_OK) {
    }
    ++*(int *)number;
    return number;
}

/* Closes a coroutine in the middle of its function and destroys it. */
static void drop_coro(mtask_coro *coro) {
    ck_assert_status(mtask_coro_close(coro), MTASK_OK);
    end_coro(coro);
}

static mtask_outcome outcome_of(const mtask_coro *coro, mtask_status expected) {
    mtask_outcome outcome = {.status = MTASK_AUTH};
    ck_assert_status(mtask_coro_outcome(coro, &outcome), expected);
    return outcome;
}

/* Fails the test unless it ended by mtask_fail with this. */
static void check_failure(const mtask_coro *coro, mtask_status status, const char *text) {
    mtask_outcome outcome = outcome_of(coro, MTASK_FAILED);
    ck_assert_int_eq(mtask_coro_status(coro), MTASK_CORO_ENDED);
    ck_assert_status(outcome.status, status);
    ck_assert_ptr_null(outcome.value);
    ck_assert_str_eq(outcome.text, text);
}

/* Where coroutines write what they do. */
typedef struct diary {
    char text[256];
} diary;

static void note(diary *book, const char *what) {
    size_t used = strlen(book->text);
    testing_check(used + strlen(what) + 2 < sizeof book->text);
    snprintf(book->text + used, sizeof book->text - used, "%s%s", used > 0 ? " " : "", what);
}

/* ---- creation ---- */

START_TEST(create_makes_a_coroutine_that_has_not_run) {
    int runs = 0;
    mtask_coro *coro = open_coro(count_closing, &runs);
    ck_assert_int_eq(mtask_coro_status(coro), MTASK_CORO_CREATED);
    ck_assert_str_eq(mtask_coro_name(coro), "");
    ck_assert_ptr_null(mtask_coro_current());
    end_coro(coro);
    ck_assert_int_eq(runs, 0);
}
END_TEST

START_TEST(create_ex_takes_function_argument_and_name) {
    char name[] = "counter";
    mtask_coro_desc desc = {.fn = return_arg, .arg = name, .name = name};
    mtask_coro *coro;
    ck_assert_status(mtask_coro_create_ex(&coro, &desc), MTASK_OK);
    ck_assert_ptr_eq(mtask_coro_name(coro), name); /* not copied */
    ck_assert_ptr_eq((void *)resume_for(coro, 0, MTASK_DONE), name);
    ck_assert_ptr_eq(mtask_coro_name(coro), name);
    end_coro(coro);
}
END_TEST

START_TEST(create_refuses_what_cannot_run) {
    static unsigned char space[MTASK_CORO_STACK_MIN];
    mtask_coro_desc desc = {0};
    mtask_coro *coro;
    ck_assert_status(mtask_coro_create(&coro, NULL, NULL), MTASK_INVALID);
    ck_assert_status(mtask_coro_create_ex(&coro, &desc), MTASK_INVALID);
    desc.fn = return_arg;
    desc.stack_size = MTASK_CORO_STACK_MIN - 1;
    ck_assert_status(mtask_coro_create_ex(&coro, &desc), MTASK_INVALID);
    desc.stack = space;
    ck_assert_status(mtask_coro_create_ex(&coro, &desc), MTASK_INVALID);
    desc.stack_size = 1;
    ck_assert_status(mtask_coro_create_ex(&coro, &desc), MTASK_INVALID);
}
END_TEST

START_TEST(a_stack_larger_than_memory_is_refused) {
    mtask_coro_desc desc = {.fn = return_arg};
    mtask_coro *coro;
    desc.stack_size = SIZE_MAX;
    ck_assert_status(mtask_coro_create_ex(&coro, &desc), MTASK_NOMEM);
    desc.stack_size = SIZE_MAX / 2 + 2;
    ck_assert_status(mtask_coro_create_ex(&coro, &desc), MTASK_NOMEM);
    desc.stack_size = SIZE_MAX / 4;
    ck_assert_status(mtask_coro_create_ex(&coro, &desc), MTASK_NOMEM);
}
END_TEST

/* Uses so much stack; what it gives depends on all of it. */
static long use_stack(long bytes) {
    volatile unsigned char block[1024];
    long sum = 0;
    for (size_t i = 0; i < sizeof block; i++)
        block[i] = (unsigned char)(i + (size_t)bytes);
    if (bytes > (long)sizeof block)
        sum = use_stack(bytes - (long)sizeof block);
    for (size_t i = 0; i < sizeof block; i += 64)
        sum += block[i];
    return sum;
}

static void *dig(void *bytes) {
    long sum = use_stack((long)bytes);
    (void)yield_long(sum);
    return (void *)(use_stack((long)bytes) == sum ? sum : -1);
}

START_TEST(stacks_have_the_size_that_is_asked_for) {
    static const size_t sizes[] = {SMALL_STACK,  SMALL_STACK + 1, 100000, 262144,
                                   262144 + 100, 3000000,         1 << 23};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        long depth = TESTING_TSAN || TESTING_ASAN ? 1024 : (long)(sizes[i] / 4);
        mtask_coro_desc desc = {.fn = dig, .arg = (void *)depth, .stack_size = sizes[i]};
        mtask_coro *coro;
        ck_assert_status(mtask_coro_create_ex(&coro, &desc), MTASK_OK);
        ck_assert_int_eq(resume_for(coro, 0, MTASK_OK), use_stack(depth));
        ck_assert_int_eq(resume_for(coro, 0, MTASK_DONE), use_stack(depth));
        end_coro(coro);
    }
}
END_TEST

/* A generator that calls no library, for the smallest of stacks. */
static void *three(void *arg) {
    for (long i = 0; i < 3; i++)
        if (mtask_coro_yield(arg, NULL) != MTASK_OK)
            break;
    return NULL;
}

START_TEST(the_smallest_stack_is_enough_for_a_function_that_calls_no_library) {
    static unsigned char space[MTASK_CORO_STACK_MIN];
    mtask_coro_desc desc = {.fn = three, .stack_size = MTASK_CORO_STACK_MIN};
    if (TESTING_TSAN || TESTING_ASAN)
        return; /* they call theirs */
    for (int own = 0; own < 2; own++) {
        mtask_coro *coro;
        int items = 0;
        desc.stack = own ? space : NULL;
        ck_assert_status(mtask_coro_create_ex(&coro, &desc), MTASK_OK);
        MTASK_FOREACH(item, coro) {
            (void)item;
            items++;
        }
        ck_assert_int_eq(items, 3);
        end_coro(coro);
    }
}
END_TEST

/* Runs a generator to its end in the memory. */
static void count_in(void *stack, size_t size) {
    mtask_coro_desc desc = {
        .fn = count_to, .arg = (void *)3, .stack = stack, .stack_size = size, .name = "guest"};
    mtask_coro *coro;
    size_t in_use = mtask_coro_stacks().in_use;
    ck_assert_status(mtask_coro_create_ex(&coro, &desc), MTASK_OK);
    ck_assert_uint_eq(mtask_coro_stacks().in_use, in_use); /* none of mtask's */
    for (long i = 1; i <= 3; i++)
        ck_assert_int_eq(resume_for(coro, 0, MTASK_OK), i);
    ck_assert_int_eq(resume_for(coro, 0, MTASK_DONE), 4);
    ck_assert_str_eq(mtask_coro_name(coro), "guest");
    ck_assert((char *)coro >= (char *)stack && (char *)coro < (char *)stack + size);
    end_coro(coro);
    ck_assert_uint_eq(mtask_coro_stacks().in_use, in_use);
}

START_TEST(a_coroutine_may_live_in_memory_of_its_caller) {
    static unsigned char space[SMALL_STACK + 256];
    for (size_t shift = 0; shift < 70; shift += 3) {
        memset(space, 0xa5, sizeof space);
        count_in(space + 64 + shift, SMALL_STACK + shift % 17);
        for (size_t i = 0; i < 64 + shift; i++)
            testing_check(space[i] == 0xa5);
        for (size_t i = 64 + shift + SMALL_STACK + shift % 17; i < sizeof space; i++)
            testing_check(space[i] == 0xa5);
    }
}
END_TEST

START_TEST(memory_of_the_caller_is_free_again_after_destroy) {
    size_t size = SMALL_STACK;
    unsigned char *space = (unsigned char *)malloc(size);
    mtask_coro_desc desc = {.fn = echo, .stack = space, .stack_size = size};
    mtask_coro *coro;
    testing_check(space != NULL);
    for (long i = 0; i < 100; i++) {
        ck_assert_status(mtask_coro_create_ex(&coro, &desc), MTASK_OK);
        if (i % 3 != 0)
            ck_assert_int_eq(resume_for(coro, 0, MTASK_OK), 0);
        if (i % 3 == 2)
            ck_assert_int_eq(resume_for(coro, i, MTASK_OK), i);
        drop_coro(coro);
        memset(space, (int)i, size);
    }
    free(space);
}
END_TEST

/* ---- resume and yield ---- */

START_TEST(a_generator_yields_its_items_and_returns) {
    mtask_coro *numbers = open_coro(count_to, (void *)3);
    ck_assert_int_eq(resume_for(numbers, 0, MTASK_OK), 1);
    ck_assert_int_eq(resume_for(numbers, 0, MTASK_OK), 2);
    ck_assert_int_eq(resume_for(numbers, 0, MTASK_OK), 3);
    ck_assert_int_eq(resume_for(numbers, 0, MTASK_DONE), 4);
    ck_assert_ptr_eq(outcome_of(numbers, MTASK_OK).value, (void *)4);
    end_coro(numbers);
}
END_TEST

/* Python's averager: receives numbers, yields the mean of all. */
static void *average(void *arg) {
    long sum = 0, count = 0, mean = (long)arg;
    for (;;) {
        sum += yield_long(mean);
        mean = sum / ++count;
        if (count == 4)
            return (void *)sum;
    }
}

START_TEST(values_travel_both_ways) {
    mtask_coro *coro = open_coro(average, (void *)-7);
    ck_assert_int_eq(resume_for(coro, 999, MTASK_OK), -7); /* the first one is dropped */
    ck_assert_int_eq(resume_for(coro, 10, MTASK_OK), 10);
    ck_assert_int_eq(resume_for(coro, 30, MTASK_OK), 20);
    ck_assert_int_eq(resume_for(coro, 5, MTASK_OK), 15);
    ck_assert_int_eq(resume_for(coro, 15, MTASK_DONE), 60);
    end_coro(coro);
}
END_TEST

START_TEST(out_and_in_may_be_null) {
    mtask_coro *numbers = open_coro(count_to, (void *)2), *mirror = open_coro(echo, (void *)5);
    ck_assert_status(mtask_coro_resume(numbers, NULL, NULL), MTASK_OK);
    ck_assert_status(mtask_coro_resume(numbers, NULL, NULL), MTASK_OK);
    ck_assert_status(mtask_coro_resume(numbers, NULL, NULL), MTASK_DONE);
    ck_assert_status(mtask_coro_resume(numbers, NULL, NULL), MTASK_CLOSED);
    ck_assert_int_eq(resume_for(mirror, 0, MTASK_OK), 5);
    ck_assert_status(mtask_coro_resume(mirror, (void *)6, NULL), MTASK_OK);
    ck_assert_int_eq(resume_for(mirror, 0, MTASK_OK), 0); /* NULL came in, and out */
    drop_coro(mirror);
    end_coro(numbers);
}
END_TEST

START_TEST(resuming_one_that_has_ended_says_closed_for_ever) {
    mtask_coro *returned = open_coro(return_arg, (void *)1);
    mtask_coro *failed = open_coro(fail_at_once, "no");
    mtask_coro *never = open_coro(return_arg, NULL);
    ck_assert_int_eq(resume_for(returned, 0, MTASK_DONE), 1);
    ck_assert_int_eq(resume_for(failed, 0, MTASK_FAILED), 0);
    ck_assert_status(mtask_coro_close(never), MTASK_OK);
    for (int i = 0; i < 3; i++) {
        ck_assert_int_eq(resume_for(returned, 0, MTASK_CLOSED), 0);
        ck_assert_int_eq(resume_for(failed, 0, MTASK_CLOSED), 0);
        ck_assert_int_eq(resume_for(never, 0, MTASK_CLOSED), 0);
    }
    end_coro(returned);
    end_coro(failed);
    end_coro(never);
}
END_TEST

START_TEST(yield_outside_of_a_coroutine_is_refused) {
    ck_assert_status(mtask_coro_yield(NULL, NULL), MTASK_INVALID);
    drop_coro(open_coro(count_to, (void *)1));
    ck_assert_status(mtask_coro_yield((void *)1, NULL), MTASK_INVALID);
}
END_TEST

static void yield_deep(long depth) {
    volatile long here = depth;
    if (depth > 0)
        yield_deep(depth - 1);
    (void)yield_long(depth);
    ck_assert_int_eq(here, depth);
}

static void *yield_from_below(void *depth) {
    yield_deep((long)depth);
    return NULL;
}

START_TEST(a_function_that_the_coroutine_calls_may_yield) {
    mtask_coro *coro = open_coro(yield_from_below, (void *)50);
    for (long i = 0; i <= 50; i++)
        ck_assert_int_eq(resume_for(coro, 0, MTASK_OK), i);
    ck_assert_int_eq(resume_for(coro, 0, MTASK_DONE), 0);
    end_coro(coro);
}
END_TEST

START_TEST(a_coroutine_can_be_resumed_a_hundred_thousand_times) {
    mtask_coro *mirror = open_coro(echo, NULL);
    ck_assert_int_eq(resume_for(mirror, 0, MTASK_OK), 0);
    for (long i = 0; i < testing_scale(100000); i++)
        ck_assert_int_eq(resume_for(mirror, i, MTASK_OK), i);
    drop_coro(mirror);
}
END_TEST

START_TEST(thousands_are_alive_at_once) {
    enum { MANY = TESTING_TSAN ? 100 : 5000 };
    static mtask_coro *coros[MANY];
    for (long i = 0; i < MANY; i++)
        coros[i] = open_coro(echo, (void *)i);
    for (long i = 0; i < MANY; i++)
        ck_assert_int_eq(resume_for(coros[i], 0, MTASK_OK), i);
    for (long round = 1; round < 4; round++)
        for (long i = MANY - 1; i >= 0; i--)
            ck_assert_int_eq(resume_for(coros[i], i * round, MTASK_OK), i * round);
    for (long i = 0; i < MANY; i++)
        drop_coro(coros[i * 7 % MANY]); /* 7 divides none of them: each once */
    ck_assert_uint_eq(mtask_coro_stacks().in_use, 0);
}
END_TEST

START_TEST(a_hundred_thousand_live_and_end_one_after_the_other) {
    size_t reserved = 0;
    for (long i = 0; i < lives(100000); i++) {
        mtask_coro *coro = open_coro(i % 2 ? return_arg : echo, (void *)i);
        ck_assert_int_eq(resume_for(coro, 0, i % 2 ? MTASK_DONE : MTASK_OK), i);
        drop_coro(coro);
        if (i == 0)
            reserved = mtask_coro_stacks().reserved;
    }
    ck_assert_uint_eq(mtask_coro_stacks().reserved, reserved); /* the same stack each time */
    ck_assert_uint_eq(mtask_coro_stacks().in_use, 0);
}
END_TEST

/* ---- what must survive a switch ---- */

/* Computes in more variables than the CPU has registers, and yields in the middle of it. */
static double juggle(long seed, bool pausing) {
    long a = seed, b = seed + 1, c = seed + 2, d = seed + 3, e = seed + 5, f = seed + 7;
    long g = seed + 11, h = seed + 13;
    double p = (double)seed, q = p + 1, r = p + 2, s = p + 3, t = p + 5, u = p + 7, v = p + 11;
    long double w = p / 3;
    float x = 0.5f;
    for (int i = 0; i < 20; i++) {
        a = (a * 31 + b) & 0xffff, b = (b * 17 + c) & 0xffff, c = (c * 13 + d) & 0xffff;
        p = p * 0.5 + q, q = q * 0.25 + r, r = r * 0.125 + s, s = s * 0.5 + (double)a;
        if (pausing)
            (void)yield_long(i);
        d = (d * 11 + e) & 0xffff, e = (e * 7 + f) & 0xffff, f = (f * 5 + a) & 0xffff;
        g = (g * 3 + h) & 0xffff, h = (h + a + b + c) & 0xffff;
        t = t * 0.5 + u, u = u * 0.25 + v, v = v * 0.5 + p + q, w = w * 0.5L + (long double)g;
        x = x * 0.5f + (float)(h & 7);
    }
    return (double)(a + b + c + d + e + f + g + h) + p + q + r + s + t + u + v + (double)w +
           (double)x;
}

/* The same, but the yield stands in a function that the compiler cannot look into. */
static double juggle_around_call(long seed, void (*pause)(void)) {
    long a = seed, b = seed + 1, c = seed + 2, d = seed + 3, e = seed + 5, f = seed + 7;
    double p = (double)seed, q = p + 1, r = p + 2;
    for (int i = 0; i < 20; i++) {
        a = (a * 31 + b) & 0xffff, b = (b * 17 + c) & 0xffff, c = (c * 13 + d) & 0xffff;
        pause();
        d = (d * 11 + e) & 0xffff, e = (e * 7 + f) & 0xffff, f = (f * 5 + a) & 0xffff;
        p = p * 0.5 + q, q = q * 0.25 + r, r = r * 0.125 + (double)f;
    }
    return (double)(a + b + c + d + e + f) + p + q + r;
}

static void pause_by_yield(void) {
    (void)yield_long(0);
}

static void no_pause(void) {
}

typedef struct juggler {
    long seed;
    double result;
    mtask_coro *coro;
} juggler;

static void *run_juggler(void *arg) {
    juggler *self = (juggler *)arg;
    void (*volatile pause)(void) = pause_by_yield;
    self->result = juggle(self->seed, true) + juggle_around_call(self->seed, pause);
    return NULL;
}

START_TEST(variables_keep_their_values_across_switches) {
    juggler jugglers[20];
    void (*volatile pause)(void) = no_pause;
    for (int i = 0; i < 20; i++) {
        jugglers[i].seed = i * 1000 + 7;
        jugglers[i].coro = open_coro(run_juggler, &jugglers[i]);
    }
    for (int round = 0; round < 40; round++)
        for (int i = 0; i < 20; i++)
            (void)resume_for(jugglers[i * 3 % 20].coro, 0, MTASK_OK);
    for (int i = 0; i < 20; i++) {
        double expected =
            juggle(jugglers[i].seed, false) + juggle_around_call(jugglers[i].seed, pause);
        (void)resume_for(jugglers[i].coro, 0, MTASK_DONE);
        ck_assert_double_eq(jugglers[i].result, expected);
        end_coro(jugglers[i].coro);
    }
}
END_TEST

/* Resumes the coroutine, if there is one, in the middle of a computation. */
static double resume_amid(mtask_coro *coro) {
    long a = 1, b = 2, c = 3, d = 4, e = 5, f = 6;
    double p = 1, q = 2, r = 3;
    for (int i = 0; i < 40; i++) {
        a = (a + b) & 0xffff, b = (b + c * 3) & 0xffff, c = (c + d * 5) & 0xffff;
        if (coro != NULL)
            (void)resume_for(coro, 0, MTASK_OK);
        d = (d + e * 7) & 0xffff, e = (e + f * 11) & 0xffff, f = (f + a * 13) & 0xffff;
        p = p * 0.5 + q, q = q * 0.5 + r, r = r * 0.25 + (double)a;
    }
    return (double)(a + b + c + d + e + f) + p + q + r;
}

START_TEST(the_variables_of_the_resumer_keep_their_values) {
    juggler noise = {.seed = 99};
    mtask_coro *coro = open_coro(run_juggler, &noise);
    ck_assert_double_eq(resume_amid(coro), resume_amid(NULL));
    ck_assert_int_eq(resume_for(coro, 0, MTASK_DONE), 0);
    end_coro(coro);
}
END_TEST

typedef long numbers_4 __attribute__((vector_size(32)));

/* Yields while aligned vectors and arrays of a size known only now are on the stack. */
static void *use_aligned(void *arg) {
    _Alignas(64) volatile char line[64] = {0};
    volatile numbers_4 numbers = {1, 2, 3, 4};
    long length = (long)arg;
    long variable[length];
    ck_assert_uint_eq((uintptr_t)line % 64, 0);
    for (long i = 0; i < length; i++)
        variable[i] = i;
    for (int i = 0; i < 5; i++) {
        long sum = 0;
        for (long j = 0; j < length; j++)
            sum += variable[j];
        numbers += (numbers_4){1, 1, 1, 1};
        (void)yield_long(sum + numbers[0] + numbers[3] + line[i]);
    }
    return NULL;
}

START_TEST(stacks_are_aligned_for_every_type) {
    mtask_coro *coros[4];
    for (long i = 0; i < 4; i++)
        coros[i] = open_coro(use_aligned, (void *)(i + 3));
    for (long round = 1; round <= 5; round++)
        for (long i = 0; i < 4; i++)
            ck_assert_int_eq(resume_for(coros[i], 0, MTASK_OK),
                             (i + 2) * (i + 3) / 2 + 5 + 2 * round);
    for (long i = 0; i < 4; i++) {
        ck_assert_int_eq(resume_for(coros[i], 0, MTASK_DONE), 0);
        end_coro(coros[i]);
    }
}
END_TEST

static void *print_numbers(void *text) {
    for (int i = 0; i < 3; i++) {
        snprintf((char *)text, 64, "%d %.3f %s %.2Lf", i, i + 0.125, "text", 2.5L * i);
        if (mtask_coro_yield(text, NULL) != MTASK_OK)
            break;
    }
    return NULL;
}

START_TEST(the_c_library_works_in_a_coroutine) {
    char text[64];
    mtask_coro *coro = open_coro(print_numbers, text);
    (void)resume_for(coro, 0, MTASK_OK);
    ck_assert_str_eq(text, "0 0.125 text 0.00");
    (void)resume_for(coro, 0, MTASK_OK);
    (void)resume_for(coro, 0, MTASK_OK);
    ck_assert_str_eq(text, "2 2.125 text 5.00");
    drop_coro(coro);
}
END_TEST

static void *set_errno(void *arg) {
    for (int i = 0; i < 3; i++) {
        int got = errno;
        errno = EDOM;
        if (mtask_coro_yield((void *)(long)got, NULL) != MTASK_OK)
            break;
    }
    errno = ERANGE;
    return arg;
}

START_TEST(errno_passes_through_switches_unharmed) {
    mtask_coro *coro = open_coro(set_errno, NULL);
    for (int i = 0; i < 3; i++) {
        long seen;
        errno = EAGAIN;
        seen = resume_for(coro, 0, MTASK_OK);
        ck_assert_int_eq(errno, EDOM); /* it is part of the resumer's task, as any function */
        ck_assert_int_eq(seen, EAGAIN);
    }
    ck_assert_int_eq(resume_for(coro, 0, MTASK_DONE), 0);
    ck_assert_int_eq(errno, ERANGE);
    errno = 0;
    end_coro(coro);
    coro = open_coro(return_arg, NULL);
    ck_assert_status(mtask_coro_close(coro), MTASK_OK);
    end_coro(coro);
    ck_assert_int_eq(errno, 0);
}
END_TEST

/* ucontext keeps the modes of floating point apart only on x86. */
#if defined(MTASK_CORO_NO_FPU) ||                                                                  \
    (defined(MTASK_CORO_UCONTEXT) && !defined(__x86_64__) && !defined(__i386__))
# define HAS_MODES 0
#else
# define HAS_MODES 1
#endif

#if HAS_MODES
/* What 1/3 and -1/3 are in the rounding mode of now: in float and in long double. */
typedef struct thirds {
    int mode;
    float plus, minus;
    long double long_plus;
} thirds;

static thirds divide_by_three(void) {
    volatile float one = 1, three_ = 3;
    volatile long double long_one = 1, long_three = 3;
    thirds result = {fegetround(), one / three_, -one / three_, long_one / long_three};
    return result;
}

static bool same_thirds(thirds a, thirds b) {
    return a.mode == b.mode && a.plus == b.plus && a.minus == b.minus && a.long_plus == b.long_plus;
}

static void *round_in_mode(void *mode) {
    thirds first;
    ck_assert_int_eq(fesetround((int)(long)mode), 0);
    first = divide_by_three();
    for (;;) {
        thirds now;
        if (mtask_coro_yield(mode, NULL) != MTASK_OK)
            return NULL;
        now = divide_by_three();
        testing_check(same_thirds(now, first));
    }
}

START_TEST(rounding_modes_are_kept_apart) {
    static const int modes[] = {FE_TONEAREST, FE_UPWARD, FE_DOWNWARD, FE_TOWARDZERO};
    mtask_coro *coros[4];
    thirds up, near;
    near = divide_by_three();
    ck_assert_int_eq(near.mode, FE_TONEAREST);
    for (int i = 0; i < 4; i++) {
        coros[i] = open_coro(round_in_mode, (void *)(long)modes[i]);
        ck_assert_int_eq(resume_for(coros[i], 0, MTASK_OK), modes[i]);
        ck_assert(same_thirds(divide_by_three(), near));
    }
    ck_assert_int_eq(fesetround(FE_UPWARD), 0);
    up = divide_by_three();
    ck_assert(up.plus > near.plus || up.minus > near.minus);
    for (int i = 0; i < 40; i++) {
        ck_assert_int_eq(resume_for(coros[i * 3 % 4], 0, MTASK_OK), modes[i * 3 % 4]);
        ck_assert(same_thirds(divide_by_three(), up));
    }
    ck_assert_int_eq(fesetround(FE_TONEAREST), 0);
    for (int i = 0; i < 4; i++) {
        drop_coro(coros[i]);
        ck_assert(same_thirds(divide_by_three(), near));
    }
}
END_TEST

START_TEST(the_end_of_a_coroutine_does_not_change_the_rounding_mode) {
    mtask_coro *upward = open_coro(round_in_mode, (void *)(long)FE_UPWARD);
    mtask_coro *plain;
    ck_assert_int_eq(resume_for(upward, 0, MTASK_OK), FE_UPWARD);
    plain = open_coro(return_arg, NULL);
    ck_assert_int_eq(resume_for(plain, 0, MTASK_DONE), 0);
    ck_assert_int_eq(fegetround(), FE_TONEAREST);
    drop_coro(upward); /* it sets its mode again, cleans up in it, and ends */
    ck_assert_int_eq(fegetround(), FE_TONEAREST);
    end_coro(plain);
}
END_TEST
#endif

/* ---- status and current ---- */

typedef struct family {
    mtask_coro *outer, *middle, *inner;
    mtask_coro_state seen[3]; /* of them, by the innermost */
    mtask_status refused[3];  /* what the innermost is told when it resumes them */
} family;

static void *look_at_family(void *arg) {
    family *all = (family *)arg;
    void *out;
    ck_assert_ptr_eq(mtask_coro_current(), all->inner);
    all->seen[0] = mtask_coro_status(all->outer);
    all->seen[1] = mtask_coro_status(all->middle);
    all->seen[2] = mtask_coro_status(all->inner);
    all->refused[0] = mtask_coro_resume(all->outer, NULL, &out);
    all->refused[1] = mtask_coro_resume(all->middle, NULL, &out);
    all->refused[2] = mtask_coro_resume(all->inner, NULL, &out);
    ck_assert_ptr_null(out);
    (void)yield_long(3);
    return (void *)33;
}

static void *resume_inner(void *arg) {
    family *all = (family *)arg;
    ck_assert_ptr_eq(mtask_coro_current(), all->middle);
    ck_assert_int_eq(resume_for(all->inner, 0, MTASK_OK), 3);
    ck_assert_ptr_eq(mtask_coro_current(), all->middle);
    ck_assert_int_eq(mtask_coro_status(all->inner), MTASK_CORO_SUSPENDED);
    (void)yield_long(2);
    ck_assert_int_eq(resume_for(all->inner, 0, MTASK_DONE), 33);
    return (void *)22;
}

static void *resume_middle(void *arg) {
    family *all = (family *)arg;
    ck_assert_ptr_eq(mtask_coro_current(), all->outer);
    ck_assert_int_eq(resume_for(all->middle, 0, MTASK_OK), 2);
    ck_assert_int_eq(mtask_coro_status(all->middle), MTASK_CORO_SUSPENDED);
    (void)yield_long(1);
    ck_assert_int_eq(resume_for(all->middle, 0, MTASK_DONE), 22);
    ck_assert_ptr_eq(mtask_coro_current(), all->outer);
    return (void *)11;
}

START_TEST(status_tells_what_each_does) {
    family all;
    all.outer = open_coro(resume_middle, &all);
    all.middle = open_coro(resume_inner, &all);
    all.inner = open_coro(look_at_family, &all);
    ck_assert_int_eq(resume_for(all.outer, 0, MTASK_OK), 1);
    ck_assert_int_eq(all.seen[0], MTASK_CORO_WAITING);
    ck_assert_int_eq(all.seen[1], MTASK_CORO_WAITING);
    ck_assert_int_eq(all.seen[2], MTASK_CORO_RUNNING);
    for (int i = 0; i < 3; i++)
        ck_assert_status(all.refused[i], MTASK_INVALID);
    ck_assert_int_eq(mtask_coro_status(all.outer), MTASK_CORO_SUSPENDED);
    ck_assert_ptr_null(mtask_coro_current());
    ck_assert_int_eq(resume_for(all.outer, 0, MTASK_DONE), 11);
    ck_assert_int_eq(mtask_coro_status(all.outer), MTASK_CORO_ENDED);
    ck_assert_int_eq(mtask_coro_status(all.inner), MTASK_CORO_ENDED);
    end_coro(all.outer);
    end_coro(all.middle);
    end_coro(all.inner);
}
END_TEST

static void *take_one(void *coro) {
    return (void *)resume_for((mtask_coro *)coro, 0, MTASK_OK);
}

START_TEST(a_suspended_generator_may_be_resumed_by_somebody_else) {
    mtask_coro *numbers = open_coro(count_to, (void *)11);
    ck_assert_int_eq(resume_for(numbers, 0, MTASK_OK), 1);
    for (long i = 2; i < 11; i += 2) {
        mtask_coro *taker = open_coro(take_one, numbers);
        ck_assert_int_eq(resume_for(taker, 0, MTASK_DONE), i);
        ck_assert_int_eq(resume_for(numbers, 0, MTASK_OK), i + 1);
        end_coro(taker);
    }
    ck_assert_int_eq(resume_for(numbers, 0, MTASK_DONE), 12);
    end_coro(numbers);
}
END_TEST

typedef struct depth {
    long left;
    mtask_coro_state *states; /* of all, as the innermost sees them */
    mtask_coro **coros;
    long count;
} depth;

static void *go_deeper(void *arg) {
    depth *all = (depth *)arg;
    if (all->left-- > 0)
        return (void *)(resume_for(all->coros[all->left], 0, MTASK_DONE) + 1);
    for (long i = 0; i < all->count; i++)
        all->states[i] = mtask_coro_status(all->coros[i]);
    return NULL;
}

START_TEST(a_thousand_coroutines_may_wait_for_each_other) {
    enum { DEEP = TESTING_TSAN ? 50 : 1000 };
    static mtask_coro *coros[DEEP];
    static mtask_coro_state states[DEEP];
    depth all = {.left = DEEP - 1, .states = states, .coros = coros, .count = DEEP};
    for (int i = 0; i < DEEP; i++)
        coros[i] = open_coro(go_deeper, &all);
    ck_assert_int_eq(resume_for(coros[DEEP - 1], 0, MTASK_DONE), DEEP - 1);
    for (int i = 0; i < DEEP; i++) {
        ck_assert_int_eq(states[i], i == 0 ? MTASK_CORO_RUNNING : MTASK_CORO_WAITING);
        end_coro(coros[i]);
    }
}
END_TEST

static void *resume_self(void *arg) {
    mtask_coro *self = mtask_coro_current();
    void *out = arg;
    ck_assert_int_eq(mtask_coro_status(self), MTASK_CORO_RUNNING);
    ck_assert_status(mtask_coro_resume(self, arg, &out), MTASK_INVALID);
    ck_assert_ptr_null(out);
    ck_assert(!mtask_coro_next(self, &out));
    (void)yield_long(1);
    ck_assert_status(mtask_coro_resume(self, arg, NULL), MTASK_INVALID);
    return (void *)2;
}

START_TEST(a_generator_that_is_already_executing_is_not_resumed) {
    mtask_coro *coro = open_coro(resume_self, &coro);
    ck_assert_int_eq(resume_for(coro, 0, MTASK_OK), 1); /* it went on */
    ck_assert_int_eq(resume_for(coro, 0, MTASK_DONE), 2);
    end_coro(coro);
}
END_TEST

#ifndef MTASK_CORO_NO_LOOP
static void *generate_in_task(void *arg) {
    mtask_coro *numbers = open_coro(count_to, (void *)2);
    ck_assert_ptr_null(mtask_coro_current()); /* a task as such is no coroutine */
    ck_assert_status(mtask_coro_yield(NULL, NULL), MTASK_INVALID);
    ck_assert_int_eq(resume_for(numbers, 0, MTASK_OK), 1);
    ck_assert_ptr_null(mtask_coro_current());
    drop_coro(numbers);
    return arg;
}

START_TEST(a_task_of_a_loop_may_have_generators_but_is_none) {
    ck_assert_ptr_eq(in_loop(generate_in_task, &errno), &errno);
    ck_assert_ptr_null(mtask_coro_current());
}
END_TEST
#endif

/* ---- generators in generators ---- */

/* Hands all items of the generator on, as Python's `yield from`; when it is closed, it closes that
   one too. The last item sent in goes down. MTASK_DONE: it has ended; *value is what it returned. */
static mtask_status yield_from(mtask_coro *coro, void **value) {
    void *in = NULL, *item;
    for (;;) {
        mtask_status status = mtask_coro_resume(coro, in, &item);
        if (status != MTASK_OK) {
            if (value != NULL)
                *value = item;
            return status;
        }
        status = mtask_coro_yield(item, &in);
        if (status != MTASK_OK) {
            ck_assert_status(mtask_coro_close(coro), MTASK_OK);
            return status;
        }
    }
}

typedef struct node {
    long key;
    struct node *left, *right;
} node;

/* The keys of a tree in order: a generator for each node. */
static void *walk(void *arg) {
    node *tree = (node *)arg;
    mtask_status status = MTASK_DONE;
    for (int side = 0; side < 2 && tree != NULL && status == MTASK_DONE; side++) {
        mtask_coro *below = open_coro(walk, side == 0 ? tree->left : tree->right);
        status = yield_from(below, NULL);
        end_coro(below);
        if (side == 0 && status == MTASK_DONE && mtask_coro_yield(tree, NULL) != MTASK_OK)
            status = MTASK_CANCELED;
    }
    return NULL;
}

/* A search tree of `count` nodes, in which the keys went in a random order. */
static node *plant(node *nodes, long count, testing_random *random) {
    node *root = NULL;
    for (long i = 0; i < count; i++)
        nodes[i] = (node){.key = i};
    for (long i = count - 1; i > 0; i--) {
        long other = (long)testing_below(random, (uint64_t)i + 1), key = nodes[i].key;
        nodes[i].key = nodes[other].key;
        nodes[other].key = key;
    }
    for (long i = 0; i < count; i++) {
        node **place = &root;
        while (*place != NULL)
            place = nodes[i].key < (*place)->key ? &(*place)->left : &(*place)->right;
        *place = &nodes[i];
    }
    return root;
}

START_TEST(a_tree_is_walked_by_recursive_generators) {
    enum { NODES = TESTING_TSAN ? 50 : 200 };
    node nodes[NODES];
    testing_random random = testing_random_make(testing_seed(), 0);
    mtask_coro *all = open_coro(walk, plant(nodes, NODES, &random));
    long key = 0;
    MTASK_FOREACH(item, all) {
        ck_assert_int_eq(((node *)item)->key, key);
        key++;
    }
    ck_assert_int_eq(key, NODES);
    end_coro(all);
    ck_assert_uint_eq(mtask_coro_stacks().in_use, 0);
}
END_TEST

START_TEST(closing_the_outermost_generator_closes_all_below) {
    enum { NODES = TESTING_TSAN ? 40 : 100 };
    node nodes[NODES];
    testing_random random = testing_random_make(testing_seed(), 0);
    node *root = plant(nodes, NODES, &random);
    for (long stop = 1; stop < NODES; stop += TESTING_TSAN ? 13 : 7) {
        mtask_coro *all = open_coro(walk, root);
        long left = stop;
        MTASK_FOREACH(item, all) {
            if (--left == 0) {
                ck_assert_int_eq(((node *)item)->key, stop - 1);
                break;
            }
        }
        drop_coro(all);
        ck_assert_uint_eq(mtask_coro_stacks().in_use, 0);
    }
}
END_TEST

/* All orders of letters[from ..], which lie in one place: yields when the next one is there. */
typedef struct letters {
    char text[8];
    size_t from;
} letters;

static void swap(char *a, char *b) {
    char c = *a;
    *a = *b;
    *b = c;
}

static void *permute(void *arg) {
    letters *all = (letters *)arg;
    size_t from = all->from;
    if (all->text[from] == '\0')
        return mtask_coro_yield(all->text, NULL) == MTASK_OK ? arg : NULL;
    for (size_t i = from; all->text[i] != '\0'; i++) {
        mtask_coro *rest;
        mtask_status status;
        swap(&all->text[from], &all->text[i]);
        all->from = from + 1;
        rest = open_coro(permute, all);
        status = yield_from(rest, NULL);
        end_coro(rest);
        swap(&all->text[from], &all->text[i]);
        if (status != MTASK_DONE)
            return NULL;
    }
    return arg;
}

START_TEST(permutations_come_from_recursive_generators) {
    enum { ORDERS = TESTING_TSAN ? 24 : 120 };
    const char *text = TESTING_TSAN ? "abcd" : "abcde";
    letters all = {.from = 0};
    mtask_coro *coro = open_coro(permute, &all);
    char seen[ORDERS][8];
    int count = 0;
    memcpy(all.text, text, strlen(text) + 1);
    MTASK_FOREACH(item, coro) {
        testing_check(count < ORDERS);
        memcpy(seen[count++], item, 8);
    }
    ck_assert_int_eq(count, ORDERS);
    for (int i = 0; i < count; i++)
        for (int j = 0; j < i; j++)
            testing_check(strcmp(seen[i], seen[j]) != 0);
    ck_assert_str_eq(all.text, text);
    end_coro(coro);
}
END_TEST

/* ---- chains of filters: the sieve of Eratosthenes ---- */

typedef struct filter {
    mtask_coro *from;
    long prime;
} filter;

static void *from_two(void *arg) {
    long i = 2;
    while (mtask_coro_yield((void *)i, NULL) == MTASK_OK)
        i++;
    return arg;
}

static void *not_multiples(void *arg) {
    filter *self = (filter *)arg;
    MTASK_FOREACH(item, self->from) {
        if ((long)item % self->prime != 0 && mtask_coro_yield(item, NULL) != MTASK_OK)
            break;
    }
    return NULL;
}

START_TEST(a_sieve_is_a_chain_of_generators) {
    enum { PRIMES = 60 };
    filter filters[PRIMES];
    mtask_coro *last = open_coro(from_two, NULL);
    long prime = 0;
    for (int i = 0; i < PRIMES; i++) {
        prime = resume_for(last, 0, MTASK_OK);
        filters[i] = (filter){last, prime};
        last = open_coro(not_multiples, &filters[i]);
    }
    ck_assert_int_eq(prime, 281); /* the 60th */
    drop_coro(last);
    for (int i = PRIMES - 1; i >= 0; i--)
        drop_coro(filters[i].from);
}
END_TEST

/* ---- conjoin: a generator for each queen, which tries the next one ---- */

typedef struct board {
    int size;
    int row; /* of the next queen */
    int columns[8];
} board;

static bool is_attacked(const board *queens, int row, int column) {
    for (int i = 0; i < row; i++) {
        int distance = column - queens->columns[i];
        if (distance == 0 || distance == row - i || distance == i - row)
            return true;
    }
    return false;
}

static void *place_queens(void *arg) {
    board *queens = (board *)arg;
    int row = queens->row;
    if (row == queens->size)
        return mtask_coro_yield(queens, NULL) == MTASK_OK ? arg : NULL;
    for (int column = 0; column < queens->size; column++) {
        mtask_coro *next;
        if (is_attacked(queens, row, column))
            continue;
        queens->columns[row] = column;
        queens->row = row + 1;
        next = open_coro(place_queens, queens);
        ck_assert_status(yield_from(next, NULL), MTASK_DONE);
        end_coro(next);
    }
    return arg;
}

START_TEST(queens_are_placed_by_generators_that_backtrack) {
    board queens = {.size = TESTING_TSAN ? 4 : 6};
    mtask_coro *coro = open_coro(place_queens, &queens);
    int solutions = 0;
    MTASK_FOREACH(item, coro) {
        ck_assert_ptr_eq(item, &queens);
        solutions++;
    }
    ck_assert_int_eq(solutions, TESTING_TSAN ? 2 : 4);
    end_coro(coro);
}
END_TEST

/* ---- delegation ---- */

static void *delegate(void *coro) {
    void *value = NULL;
    mtask_outcome outcome;
    mtask_status status = yield_from((mtask_coro *)coro, &value);
    if (status != MTASK_FAILED)
        return value;
    (void)mtask_failure(&outcome);
    return mtask_fail(outcome.status, "below: %s", outcome.text);
}

START_TEST(delegation_passes_values_down_and_results_up) {
    mtask_coro *inner = open_coro(average, (void *)5);
    mtask_coro *middle = open_coro(delegate, inner), *outer = open_coro(delegate, middle);
    ck_assert_int_eq(resume_for(outer, 0, MTASK_OK), 5);
    ck_assert_int_eq(resume_for(outer, 8, MTASK_OK), 8);
    ck_assert_int_eq(resume_for(outer, 2, MTASK_OK), 5);
    ck_assert_int_eq(resume_for(outer, 5, MTASK_OK), 5);
    ck_assert_int_eq(resume_for(outer, 1, MTASK_DONE), 16);
    end_coro(outer);
    end_coro(middle);
    end_coro(inner);
}
END_TEST

/* ---- close ---- */

typedef struct closing {
    mtask_status first, second; /* what its yields answer */
    long in_first;              /* and with what */
    int cleanups;
} closing;

static void *clean_up(void *arg) {
    closing *self = (closing *)arg;
    void *in = &self;
    self->first = mtask_coro_yield((void *)1, &in);
    self->in_first = (long)in;
    self->second = mtask_coro_yield((void *)2, NULL);
    self->cleanups++;
    return (void *)3;
}

START_TEST(close_cancels_the_pending_yield_and_clean_up_runs) {
    closing seen = {.first = MTASK_OK, .in_first = -1};
    mtask_coro *coro = open_coro(clean_up, &seen);
    ck_assert_int_eq(resume_for(coro, 0, MTASK_OK), 1);
    ck_assert_status(mtask_coro_close(coro), MTASK_OK);
    ck_assert_status(seen.first, MTASK_CANCELED);
    ck_assert_int_eq(seen.in_first, 0);
    ck_assert_status(seen.second, MTASK_CANCELED); /* it went on yielding, in vain */
    ck_assert_int_eq(seen.cleanups, 1);
    ck_assert_int_eq(mtask_coro_status(coro), MTASK_CORO_ENDED);
    ck_assert_ptr_eq(outcome_of(coro, MTASK_OK).value, (void *)3);
    ck_assert_ptr_null(mtask_coro_current());
    end_coro(coro);
}
END_TEST

static void *yield_stubbornly(void *arg) {
    for (long i = 0; i < 1000; i++)
        if (mtask_coro_yield((void *)i, NULL) == MTASK_CANCELED)
            ++*(long *)arg;
    return NULL;
}

START_TEST(a_generator_that_goes_on_yielding_is_still_closed) {
    long refused = 0;
    mtask_coro *coro = open_coro(yield_stubbornly, &refused);
    for (long i = 0; i < 5; i++)
        ck_assert_int_eq(resume_for(coro, 0, MTASK_OK), i);
    ck_assert_status(mtask_coro_close(coro), MTASK_OK);
    ck_assert_int_eq(refused, 1000 - 4);
    end_coro(coro);
}
END_TEST

START_TEST(closing_one_that_never_ran_does_not_run_it) {
    int runs = 0;
    mtask_coro *coro = open_coro(count_closing, &runs);
    mtask_outcome outcome;
    ck_assert_status(mtask_coro_close(coro), MTASK_OK);
    ck_assert_int_eq(runs, 0);
    ck_assert_int_eq(mtask_coro_status(coro), MTASK_CORO_ENDED);
    outcome = outcome_of(coro, MTASK_CANCELED);
    ck_assert_status(outcome.status, MTASK_CANCELED);
    ck_assert_ptr_null(outcome.value);
    ck_assert_status(mtask_coro_close(coro), MTASK_OK);
    ck_assert_status(mtask_coro_outcome(coro, NULL), MTASK_CANCELED);
    ck_assert_int_eq(runs, 0);
    end_coro(coro);
}
END_TEST

START_TEST(closing_one_that_has_ended_does_nothing) {
    int runs = 0;
    mtask_coro *returned = open_coro(return_arg, (void *)9);
    mtask_coro *closed = open_coro(count_closing, &runs);
    ck_assert_int_eq(resume_for(returned, 0, MTASK_DONE), 9);
    ck_assert_ptr_eq((void *)resume_for(closed, 0, MTASK_OK), &runs);
    for (int i = 0; i < 3; i++) {
        ck_assert_status(mtask_coro_close(returned), MTASK_OK);
        ck_assert_status(mtask_coro_close(closed), MTASK_OK);
    }
    ck_assert_int_eq(runs, 1);
    ck_assert_ptr_eq(outcome_of(returned, MTASK_OK).value, (void *)9);
    ck_assert_ptr_eq(outcome_of(closed, MTASK_OK).value, &runs);
    end_coro(returned);
    end_coro(closed);
}
END_TEST

START_TEST(closing_one_that_has_failed_before_is_no_failure) {
    mtask_coro *coro = open_coro(fail_at_once, "long ago");
    (void)resume_for(coro, 0, MTASK_FAILED);
    ck_assert_status(mtask_coro_close(coro), MTASK_OK);
    check_failure(coro, MTASK_BROKEN, "long ago");
    end_coro(coro);
}
END_TEST

static void *close_self(void *arg) {
    ck_assert_status(mtask_coro_close(mtask_coro_current()), MTASK_INVALID);
    ck_assert_status(mtask_coro_yield(arg, NULL), MTASK_OK); /* nothing happened */
    return arg;
}

START_TEST(one_that_runs_is_not_closed) {
    mtask_coro *coro = open_coro(close_self, (void *)4);
    ck_assert_int_eq(resume_for(coro, 0, MTASK_OK), 4);
    ck_assert_int_eq(resume_for(coro, 0, MTASK_DONE), 4);
    end_coro(coro);
}
END_TEST

static void *close_that(void *coro) {
    return (void *)(long)mtask_coro_close((mtask_coro *)coro);
}

static void *resume_closer(void *arg) {
    mtask_coro *closer = open_coro(close_that, mtask_coro_current());
    ck_assert_int_eq(resume_for(closer, 0, MTASK_DONE), MTASK_INVALID);
    end_coro(closer);
    ck_assert_status(mtask_coro_yield(arg, NULL), MTASK_OK); /* nothing happened */
    return arg;
}

START_TEST(one_that_has_resumed_the_closer_is_not_closed) {
    mtask_coro *coro = open_coro(resume_closer, (void *)4);
    ck_assert_int_eq(resume_for(coro, 0, MTASK_OK), 4);
    ck_assert_int_eq(resume_for(coro, 0, MTASK_DONE), 4);
    end_coro(coro);
}
END_TEST

static void *fail_when_closed(void *status) {
    if (mtask_coro_yield(NULL, NULL) == MTASK_OK)
        return NULL;
    return mtask_fail((mtask_status)(long)status, "clean-up");
}

START_TEST(close_tells_of_a_failure_of_clean_up) {
    mtask_coro *coro = open_coro(fail_when_closed, (void *)(long)MTASK_SYSTEM);
    mtask_outcome outcome;
    (void)resume_for(coro, 0, MTASK_OK);
    ck_assert_status(mtask_coro_close(coro), MTASK_FAILED);
    ck_assert_status(mtask_failure(&outcome), MTASK_SYSTEM);
    ck_assert_str_eq(outcome.text, "clean-up");
    check_failure(coro, MTASK_SYSTEM, "clean-up");
    ck_assert_status(mtask_coro_close(coro), MTASK_OK); /* it had ended before */
    end_coro(coro);
}
END_TEST

START_TEST(to_end_as_cancelled_is_what_close_asks_for) {
    mtask_coro *coro = open_coro(fail_when_closed, (void *)(long)MTASK_CANCELED);
    (void)resume_for(coro, 0, MTASK_OK);
    ck_assert_status(mtask_coro_close(coro), MTASK_OK);
    check_failure(coro, MTASK_CANCELED, "clean-up");
    end_coro(coro);
}
END_TEST

/* While it is being closed, it uses other generators. */
static void *use_others_in_clean_up(void *arg) {
    if (mtask_coro_yield(arg, NULL) != MTASK_OK) {
        mtask_coro *numbers = open_coro(count_to, (void *)5), *mirror = open_coro(echo, (void *)7);
        long sum = 0;
        MTASK_FOREACH(item, numbers)
            sum += (long)item;
        sum += resume_for(mirror, 0, MTASK_OK); /* its yields are not refused */
        sum += resume_for(mirror, 8, MTASK_OK);
        drop_coro(mirror);
        end_coro(numbers);
        return (void *)sum;
    }
    return NULL;
}

START_TEST(clean_up_may_use_other_generators) {
    mtask_coro *coro = open_coro(use_others_in_clean_up, NULL);
    (void)resume_for(coro, 0, MTASK_OK);
    ck_assert_status(mtask_coro_close(coro), MTASK_OK);
    ck_assert_ptr_eq(outcome_of(coro, MTASK_OK).value, (void *)30);
    end_coro(coro);
}
END_TEST

static void *close_in_turn(void *arg) {
    mtask_coro *next = (mtask_coro *)arg;
    if (next != NULL)
        (void)resume_for(next, 0, MTASK_OK);
    (void)mtask_coro_yield(NULL, NULL);
    return (void *)(long)(next == NULL ? MTASK_OK : mtask_coro_close(next));
}

START_TEST(clean_up_may_close_others_in_a_long_chain) {
    mtask_coro *chain[50];
    for (int i = 0; i < 50; i++)
        chain[i] = open_coro(close_in_turn, i == 0 ? NULL : chain[i - 1]);
    (void)resume_for(chain[49], 0, MTASK_OK);
    ck_assert_status(mtask_coro_close(chain[49]), MTASK_OK);
    for (int i = 0; i < 50; i++) {
        ck_assert_ptr_eq(outcome_of(chain[i], MTASK_OK).value, (void *)(long)MTASK_OK);
        end_coro(chain[i]);
    }
}
END_TEST

/* Is resumed, and tries to close the one that is being closed and waits for it. */
static void *close_the_closing(void *coro) {
    ck_assert_int_eq(mtask_coro_status((mtask_coro *)coro), MTASK_CORO_WAITING);
    ck_assert_status(mtask_coro_close((mtask_coro *)coro), MTASK_INVALID);
    ck_assert_status(mtask_coro_resume((mtask_coro *)coro, NULL, NULL), MTASK_INVALID);
    ck_assert_status(mtask_coro_destroy((mtask_coro *)coro), MTASK_INVALID);
    return NULL;
}

static void *resume_another_when_closed(void *arg) {
    mtask_coro *other = open_coro(close_the_closing, mtask_coro_current());
    ck_assert_status(mtask_coro_yield(NULL, NULL), MTASK_CANCELED);
    (void)resume_for(other, 0, MTASK_DONE);
    end_coro(other);
    return arg;
}

START_TEST(one_that_is_being_closed_is_not_closed_again) {
    mtask_coro *coro = open_coro(resume_another_when_closed, (void *)1);
    (void)resume_for(coro, 0, MTASK_OK);
    ck_assert_status(mtask_coro_close(coro), MTASK_OK);
    ck_assert_ptr_eq(outcome_of(coro, MTASK_OK).value, (void *)1);
    end_coro(coro);
}
END_TEST

START_TEST(close_may_be_called_in_any_coroutine) {
    int closed = 0;
    mtask_coro *victim = open_coro(count_closing, &closed);
    mtask_coro *closer = open_coro(close_that, victim);
    (void)resume_for(victim, 0, MTASK_OK);
    ck_assert_int_eq(resume_for(closer, 0, MTASK_DONE), MTASK_OK);
    ck_assert_int_eq(closed, 1);
    end_coro(victim);
    end_coro(closer);
}
END_TEST

/* ---- destroy ---- */

static void *destroy_self(void *arg) {
    ck_assert_status(mtask_coro_destroy(mtask_coro_current()), MTASK_INVALID);
    (void)yield_long(1);
    return arg;
}

static void *destroy_resumer(void *resumer) {
    return (void *)(long)mtask_coro_destroy((mtask_coro *)resumer);
}

static void *resume_destroyer(void *arg) {
    mtask_coro *destroyer = open_coro(destroy_resumer, mtask_coro_current());
    ck_assert_int_eq(resume_for(destroyer, 0, MTASK_DONE), MTASK_INVALID);
    end_coro(destroyer);
    return arg;
}

START_TEST(one_in_the_middle_of_its_function_is_not_destroyed) {
    mtask_coro *suicide = open_coro(destroy_self, NULL);
    mtask_coro *waiting = open_coro(resume_destroyer, (void *)5);
    ck_assert_int_eq(resume_for(suicide, 0, MTASK_OK), 1);
    ck_assert_status(mtask_coro_destroy(suicide), MTASK_INVALID); /* it is suspended */
    ck_assert_int_eq(resume_for(suicide, 0, MTASK_DONE), 0);      /* and nothing happened */
    ck_assert_int_eq(resume_for(waiting, 0, MTASK_DONE), 5);
    end_coro(suicide);
    end_coro(waiting);
}
END_TEST

START_TEST(destroy_takes_what_never_ran_what_ended_and_null) {
    mtask_coro *failed = open_coro(fail_at_once, "x");
    ck_assert_status(mtask_coro_destroy(NULL), MTASK_OK);
    end_coro(open_coro(return_arg, NULL));
    (void)resume_for(failed, 0, MTASK_FAILED);
    end_coro(failed);
    ck_assert_uint_eq(mtask_coro_stacks().in_use, 0);
}
END_TEST

/* ---- failure and outcome ---- */

START_TEST(the_resumer_learns_why_a_coroutine_failed) {
    mtask_coro *coro = open_coro(fail_at_once, "no such file");
    mtask_outcome outcome;
    ck_assert_status(mtask_failure(NULL), MTASK_OK);
    ck_assert_int_eq(resume_for(coro, 0, MTASK_FAILED), 0); /* *out is NULL */
    ck_assert_status(mtask_failure(&outcome), MTASK_BROKEN);
    ck_assert_status(outcome.status, MTASK_BROKEN);
    ck_assert_str_eq(outcome.text, "no such file");
    check_failure(coro, MTASK_BROKEN, "no such file");
    end_coro(coro);
}
END_TEST

static void *fail_variously(void *arg) {
    switch ((long)arg) {
    case 0:
        return mtask_fail(MTASK_OK, NULL);
    case 1:
        return mtask_fail(MTASK_TIMEOUT, NULL);
    default:
        return mtask_fail(MTASK_FULL, "%0200d", 7);
    }
}

START_TEST(a_failure_has_a_status_and_a_text_of_limited_length) {
    static const mtask_status statuses[] = {MTASK_FAILED, MTASK_TIMEOUT, MTASK_FULL};
    for (long i = 0; i < 3; i++) {
        mtask_coro *coro = open_coro(fail_variously, (void *)i);
        mtask_outcome outcome;
        (void)resume_for(coro, 0, MTASK_FAILED);
        outcome = outcome_of(coro, MTASK_FAILED);
        ck_assert_status(outcome.status, statuses[i]);
        ck_assert_uint_eq(strlen(outcome.text), i < 2 ? 0 : MTASK_TEXT_SIZE - 1);
        end_coro(coro);
    }
}
END_TEST

static void *fail_late(void *arg) {
    (void)yield_long(1);
    return fail_at_once(arg);
}

START_TEST(each_coroutine_keeps_its_own_failure) {
    mtask_coro *a = open_coro(fail_late, "a"), *b = open_coro(fail_late, "b");
    mtask_coro *c = open_coro(fail_at_once, "c");
    (void)resume_for(a, 0, MTASK_OK);
    (void)resume_for(b, 0, MTASK_OK);
    (void)resume_for(c, 0, MTASK_FAILED);
    (void)resume_for(b, 0, MTASK_FAILED);
    (void)resume_for(a, 0, MTASK_FAILED);
    (void)mtask_fail(MTASK_AUTH, "something else since");
    check_failure(a, MTASK_BROKEN, "a");
    check_failure(b, MTASK_BROKEN, "b");
    check_failure(c, MTASK_BROKEN, "c");
    end_coro(a);
    end_coro(b);
    end_coro(c);
}
END_TEST

static void *fail_and_return(void *arg) {
    (void)mtask_fail(MTASK_BROKEN, "but it was repaired");
    return arg;
}

START_TEST(a_coroutine_fails_only_by_what_it_returns) {
    mtask_coro *coro = open_coro(fail_and_return, (void *)6);
    mtask_outcome outcome;
    ck_assert_int_eq(resume_for(coro, 0, MTASK_DONE), 6);
    outcome = outcome_of(coro, MTASK_OK);
    ck_assert_status(outcome.status, MTASK_OK);
    ck_assert_ptr_eq(outcome.value, (void *)6);
    ck_assert_str_eq(outcome.text, "");
    end_coro(coro);
}
END_TEST

START_TEST(a_failure_is_passed_up_through_generators) {
    mtask_coro *inner = open_coro(fail_late, "deep"), *middle = open_coro(delegate, inner);
    mtask_coro *outer = open_coro(delegate, middle);
    ck_assert_int_eq(resume_for(outer, 0, MTASK_OK), 1);
    ck_assert_int_eq(resume_for(outer, 0, MTASK_FAILED), 0);
    check_failure(inner, MTASK_BROKEN, "deep");
    check_failure(middle, MTASK_BROKEN, "below: deep");
    check_failure(outer, MTASK_BROKEN, "below: below: deep");
    end_coro(outer);
    end_coro(middle);
    end_coro(inner);
}
END_TEST

START_TEST(there_is_no_outcome_before_the_end) {
    mtask_coro *coro = open_coro(count_to, (void *)1);
    (void)outcome_of(coro, MTASK_INVALID);
    (void)resume_for(coro, 0, MTASK_OK);
    (void)outcome_of(coro, MTASK_INVALID);
    ck_assert_status(mtask_coro_outcome(coro, NULL), MTASK_INVALID);
    (void)resume_for(coro, 0, MTASK_DONE);
    (void)outcome_of(coro, MTASK_OK);
    ck_assert_status(mtask_coro_outcome(coro, NULL), MTASK_OK);
    end_coro(coro);
}
END_TEST

/* ---- loops over generators ---- */

START_TEST(foreach_runs_once_for_each_item) {
    mtask_coro *numbers = open_coro(count_to, (void *)100);
    long sum = 0;
    MTASK_FOREACH(n, numbers)
        sum += (long)n;
    ck_assert_int_eq(sum, 5050);
    ck_assert_int_eq(mtask_coro_status(numbers), MTASK_CORO_ENDED);
    ck_assert_ptr_eq(outcome_of(numbers, MTASK_OK).value, (void *)101);
    MTASK_FOREACH(n, numbers)
        ck_abort_msg("an item of a generator that has ended: %p", n);
    end_coro(numbers);
}
END_TEST

START_TEST(after_a_break_the_generator_is_still_suspended) {
    mtask_coro *numbers = open_coro(count_to, (void *)10);
    long sum = 0;
    MTASK_FOREACH(n, numbers) {
        if ((long)n == 4)
            break;
        if ((long)n % 2 == 0)
            continue;
        sum += (long)n;
    }
    ck_assert_int_eq(sum, 1 + 3);
    ck_assert_int_eq(mtask_coro_status(numbers), MTASK_CORO_SUSPENDED);
    MTASK_FOREACH(n, numbers)
        sum += (long)n;
    ck_assert_int_eq(sum, 1 + 3 + 5 + 6 + 7 + 8 + 9 + 10);
    end_coro(numbers);
}
END_TEST

START_TEST(loops_over_generators_nest) {
    mtask_coro *rows = open_coro(count_to, (void *)9);
    long sum = 0;
    MTASK_FOREACH(row, rows) {
        mtask_coro *columns = open_coro(count_to, row);
        MTASK_FOREACH(column, columns)
            if ((long)row % 2 == 0)
                sum += (long)row * (long)column;
            else
                sum++;
        end_coro(columns);
    }
    ck_assert_int_eq(sum, 2 * 3 + 4 * 10 + 6 * 21 + 8 * 36 + 1 + 3 + 5 + 7 + 9);
    end_coro(rows);
}
END_TEST

START_TEST(two_loops_may_share_a_generator) {
    mtask_coro *numbers = open_coro(count_to, (void *)9);
    long rounds = 0, sum = 0;
    MTASK_FOREACH(a, numbers)
        MTASK_FOREACH(b, numbers) {
            rounds++;
            sum += (long)a * 10 + (long)b;
            if ((long)b % 3 == 0)
                break;
        }
    ck_assert_int_eq(rounds, 6); /* 1: 2 3, 4: 5 6, 7: 8 9 */
    ck_assert_int_eq(sum, 2 * (10 + 40 + 70) + 2 + 3 + 5 + 6 + 8 + 9);
    end_coro(numbers);
}
END_TEST

START_TEST(foreach_ends_when_the_generator_fails) {
    mtask_coro *coro = open_coro(fail_late, "torn");
    int items = 0;
    MTASK_FOREACH(item, coro)
        items += item != NULL;
    ck_assert_int_eq(items, 1);
    check_failure(coro, MTASK_BROKEN, "torn");
    end_coro(coro);
}
END_TEST

START_TEST(next_tells_whether_there_was_an_item) {
    mtask_coro *numbers = open_coro(count_to, (void *)2);
    void *item = NULL;
    ck_assert(mtask_coro_next(numbers, &item));
    ck_assert_ptr_eq(item, (void *)1);
    ck_assert(mtask_coro_next(numbers, NULL));
    ck_assert(!mtask_coro_next(numbers, &item));
    ck_assert(!mtask_coro_next(numbers, &item));
    ck_assert_int_eq(mtask_coro_status(numbers), MTASK_CORO_ENDED);
    end_coro(numbers);
}
END_TEST

static void *read_null(void *arg) {
    void *in = arg;
    ck_assert_status(mtask_coro_yield(arg, &in), MTASK_OK);
    ck_assert_ptr_null(in);
    return NULL;
}

START_TEST(next_resumes_with_null) {
    mtask_coro *coro = open_coro(read_null, &errno);
    void *item;
    ck_assert(mtask_coro_next(coro, &item));
    ck_assert_ptr_eq(item, &errno);
    ck_assert(!mtask_coro_next(coro, &item));
    end_coro(coro);
}
END_TEST

/* ---- transfer ---- */

/* Transfers to the coroutine, which must not have ended by then; what it is given when it goes on. */
static long transfer_long(mtask_coro *coro, long in) {
    void *out = (void *)-1;
    ck_assert_status(mtask_coro_transfer(coro, (void *)in, &out), MTASK_OK);
    return (long)out;
}

typedef struct pair {
    mtask_coro *first, *second;
    diary diary;
} pair;

static void *say_12_34(void *arg) {
    pair *both = (pair *)arg;
    note(&both->diary, "12");
    (void)transfer_long(both->second, 0);
    note(&both->diary, "34");
    return (void *)1;
}

static void *say_56_78(void *arg) {
    pair *both = (pair *)arg;
    note(&both->diary, "56");
    (void)transfer_long(both->first, 0);
    note(&both->diary, "78");
    return (void *)2;
}

START_TEST(two_greenlets_transfer_to_each_other) {
    pair both = {0};
    both.first = open_coro(say_12_34, &both);
    both.second = open_coro(say_56_78, &both);
    ck_assert_int_eq(resume_for(both.first, 0, MTASK_DONE), 1);
    ck_assert_str_eq(both.diary.text, "12 56 34"); /* who has ended goes back to the resumer */
    ck_assert_int_eq(mtask_coro_status(both.first), MTASK_CORO_ENDED);
    ck_assert_int_eq(mtask_coro_status(both.second), MTASK_CORO_SUSPENDED);
    ck_assert_int_eq(resume_for(both.second, 0, MTASK_DONE), 2);
    ck_assert_str_eq(both.diary.text, "12 56 34 78");
    end_coro(both.first);
    end_coro(both.second);
}
END_TEST

START_TEST(outside_of_a_coroutine_transfer_is_resume) {
    mtask_coro *numbers = open_coro(count_to, (void *)1), *failing = open_coro(fail_at_once, "t");
    void *out;
    ck_assert_int_eq(transfer_long(numbers, 0), 1);
    ck_assert_status(mtask_coro_transfer(numbers, NULL, &out), MTASK_DONE);
    ck_assert_ptr_eq(out, (void *)2);
    ck_assert_status(mtask_coro_transfer(numbers, NULL, &out), MTASK_CLOSED);
    ck_assert_ptr_null(out);
    ck_assert_status(mtask_coro_transfer(failing, NULL, NULL), MTASK_FAILED);
    end_coro(numbers);
    end_coro(failing);
}
END_TEST

static void *transfer_doubled(void *arg) {
    pair *both = (pair *)arg;
    long in = 1;
    while (in < 1000)
        in =
            transfer_long(mtask_coro_current() == both->first ? both->second : both->first, in * 2);
    return (void *)in;
}

START_TEST(transfer_hands_values_over) {
    pair both = {0};
    both.first = open_coro(transfer_doubled, &both);
    both.second = open_coro(transfer_doubled, &both);
    /* first gives 2, which nobody receives: second begins and gives 2, first 4, and so on */
    ck_assert_int_eq(resume_for(both.first, 0, MTASK_DONE), 1024);
    ck_assert_int_eq(mtask_coro_status(both.second), MTASK_CORO_ENDED);
    ck_assert_int_eq(resume_for(both.first, 2000, MTASK_DONE), 2000);
    end_coro(both.first);
    end_coro(both.second);
}
END_TEST

typedef struct ring {
    mtask_coro *members[50];
    int count;
    long left; /* transfers to do */
} ring;

static void *pass_on(void *arg) {
    ring *all = (ring *)arg;
    int self = 0;
    while (all->members[self] != mtask_coro_current())
        self++;
    for (long hops = 1;; hops++) {
        ck_assert_int_eq(mtask_coro_status(all->members[(self + 1) % all->count]),
                         hops == 1 && self + 1 < all->count ? MTASK_CORO_CREATED
                                                            : MTASK_CORO_SUSPENDED);
        if (all->left-- == 0 ||
            mtask_coro_transfer(all->members[(self + 1) % all->count], NULL, NULL) != MTASK_OK)
            return (void *)(long)self;
    }
}

START_TEST(a_ring_of_greenlets_passes_control_round) {
    ring all = {.count = 50, .left = 50 * 20 + 17};
    for (int i = 0; i < all.count; i++)
        all.members[i] = open_coro(pass_on, &all);
    ck_assert_int_eq(resume_for(all.members[0], 0, MTASK_DONE), 17);
    for (int i = 0; i < all.count; i++) {
        bool ended = mtask_coro_status(all.members[i]) == MTASK_CORO_ENDED;
        ck_assert_int_eq(ended, i == 17);
        drop_coro(all.members[i]);
    }
    ck_assert_ptr_null(mtask_coro_current());
}
END_TEST

typedef struct trio {
    mtask_coro *a, *b, *c;
} trio;

static void *hand_to_b(void *arg) {
    trio *all = (trio *)arg;
    ck_assert_int_eq(transfer_long(all->b, 1), 40);
    (void)yield_long(41);
    return (void *)42;
}

static void *hand_to_c(void *arg) {
    trio *all = (trio *)arg;
    ck_assert_int_eq(mtask_coro_status(all->a), MTASK_CORO_SUSPENDED);
    ck_assert_int_eq(transfer_long(all->c, 2), 50);
    return (void *)51;
}

static void *yield_twice(void *arg) {
    trio *all = (trio *)arg;
    ck_assert_int_eq(mtask_coro_status(all->b), MTASK_CORO_SUSPENDED);
    ck_assert_ptr_eq(mtask_coro_current(), all->c);
    ck_assert_int_eq(yield_long(30), 31);
    (void)yield_long(32);
    return (void *)33;
}

START_TEST(after_transfers_the_resumer_hears_of_the_last) {
    trio all;
    all.a = open_coro(hand_to_b, &all);
    all.b = open_coro(hand_to_c, &all);
    all.c = open_coro(yield_twice, &all);
    ck_assert_int_eq(resume_for(all.a, 0, MTASK_OK), 30); /* a to b to c, which yields */
    ck_assert_int_eq(resume_for(all.c, 31, MTASK_OK), 32);
    ck_assert_int_eq(resume_for(all.a, 40, MTASK_OK), 41); /* its transfer has returned */
    ck_assert_int_eq(resume_for(all.b, 50, MTASK_DONE), 51);
    ck_assert_int_eq(resume_for(all.a, 0, MTASK_DONE), 42);
    ck_assert_int_eq(resume_for(all.c, 0, MTASK_DONE), 33);
    end_coro(all.a);
    end_coro(all.b);
    end_coro(all.c);
}
END_TEST

static void *hand_to_failing(void *failing) {
    ck_assert_int_eq(transfer_long((mtask_coro *)failing, 0), 60);
    return (void *)61;
}

START_TEST(the_failure_of_one_transferred_to_goes_to_the_resumer) {
    mtask_coro *failing = open_coro(fail_at_once, "there");
    mtask_coro *coro = open_coro(hand_to_failing, failing);
    mtask_outcome outcome;
    ck_assert_int_eq(resume_for(coro, 0, MTASK_FAILED), 0);
    ck_assert_status(mtask_failure(&outcome), MTASK_BROKEN);
    ck_assert_str_eq(outcome.text, "there");
    check_failure(failing, MTASK_BROKEN, "there");
    (void)outcome_of(coro, MTASK_INVALID); /* this one has not ended */
    ck_assert_int_eq(mtask_coro_status(coro), MTASK_CORO_SUSPENDED);
    ck_assert_int_eq(resume_for(coro, 60, MTASK_DONE), 61);
    end_coro(failing);
    end_coro(coro);
}
END_TEST

/* In the middle: resumes a, which transfers to b, which yields to here. */
static void *resume_the_pair(void *arg) {
    trio *all = (trio *)arg;
    ck_assert_int_eq(resume_for(all->a, 0, MTASK_OK), 30);
    ck_assert_ptr_eq(mtask_coro_current(), all->b);
    (void)yield_long(1);
    ck_assert_int_eq(resume_for(all->a, 40, MTASK_OK), 41);
    return (void *)2;
}

static void *yield_to_the_middle(void *arg) {
    trio *all = (trio *)arg;
    ck_assert_int_eq(mtask_coro_status(all->b), MTASK_CORO_WAITING);
    (void)yield_long(30);
    return NULL;
}

static void *hand_on(void *arg) {
    trio *all = (trio *)arg;
    ck_assert_int_eq(transfer_long(all->c, 0), 40);
    (void)yield_long(41);
    return NULL;
}

START_TEST(transfers_stay_within_the_resumer_that_began_them) {
    trio all;
    all.a = open_coro(hand_on, &all);
    all.b = open_coro(resume_the_pair, &all);
    all.c = open_coro(yield_to_the_middle, &all);
    ck_assert_int_eq(resume_for(all.b, 0, MTASK_OK), 1);
    ck_assert_int_eq(resume_for(all.b, 0, MTASK_DONE), 2);
    ck_assert_int_eq(resume_for(all.a, 0, MTASK_DONE), 0);
    ck_assert_int_eq(resume_for(all.c, 0, MTASK_DONE), 0);
    end_coro(all.a);
    end_coro(all.b);
    end_coro(all.c);
}
END_TEST

static void *resume_the_first(void *arg) {
    pair *both = (pair *)arg;
    note(&both->diary, "second");
    ck_assert_int_eq(resume_for(both->first, 70, MTASK_DONE), 72);
    ck_assert_int_eq(mtask_coro_status(both->second), MTASK_CORO_RUNNING);
    return (void *)73;
}

static void *transfer_to_second(void *arg) {
    pair *both = (pair *)arg;
    note(&both->diary, "first");
    ck_assert_int_eq(transfer_long(both->second, 0), 70);
    ck_assert_int_eq(mtask_coro_status(both->second), MTASK_CORO_WAITING);
    note(&both->diary, "again");
    return (void *)72;
}

START_TEST(one_that_has_transferred_may_be_resumed_by_whom_it_transferred_to) {
    pair both = {0};
    both.first = open_coro(transfer_to_second, &both);
    both.second = open_coro(resume_the_first, &both);
    ck_assert_int_eq(resume_for(both.first, 0, MTASK_DONE), 73);
    ck_assert_str_eq(both.diary.text, "first second again");
    end_coro(both.first);
    end_coro(both.second);
}
END_TEST

typedef struct refusals {
    mtask_coro *ended, *resumer, *self;
} refusals;

static void *transfer_in_vain(void *arg) {
    refusals *all = (refusals *)arg;
    void *out = arg;
    ck_assert_status(mtask_coro_transfer(all->ended, arg, &out), MTASK_CLOSED);
    ck_assert_ptr_null(out);
    ck_assert_status(mtask_coro_transfer(all->resumer, arg, NULL), MTASK_INVALID);
    ck_assert_status(mtask_coro_transfer(all->self, arg, &out), MTASK_INVALID);
    ck_assert_ptr_eq(mtask_coro_current(), all->self);
    ck_assert_int_eq(mtask_coro_status(all->self), MTASK_CORO_RUNNING);
    (void)yield_long(80);
    return (void *)81;
}

static void *resume_one_in_vain(void *arg) {
    refusals *all = (refusals *)arg;
    ck_assert_int_eq(resume_for(all->self, 0, MTASK_OK), 80);
    return (void *)82;
}

START_TEST(transfer_refuses_what_resume_refuses) {
    refusals all;
    all.ended = open_coro(return_arg, NULL);
    all.resumer = open_coro(resume_one_in_vain, &all);
    all.self = open_coro(transfer_in_vain, &all);
    (void)resume_for(all.ended, 0, MTASK_DONE);
    ck_assert_int_eq(resume_for(all.resumer, 0, MTASK_DONE), 82);
    ck_assert_int_eq(resume_for(all.self, 0, MTASK_DONE), 81);
    end_coro(all.ended);
    end_coro(all.resumer);
    end_coro(all.self);
}
END_TEST

static void *transfer_until_closed(void *arg) {
    mtask_coro *other = (mtask_coro *)arg;
    void *out = arg;
    ck_assert_status(mtask_coro_transfer(other, NULL, &out), MTASK_CANCELED);
    /* the other must not run in its place now: it is to end */
    ck_assert_status(mtask_coro_transfer(other, NULL, &out), MTASK_CANCELED);
    ck_assert_status(mtask_coro_yield(NULL, NULL), MTASK_CANCELED);
    return (void *)90;
}

START_TEST(a_pending_transfer_is_cancelled_by_close) {
    mtask_coro *numbers = open_coro(count_to, (void *)5);
    mtask_coro *coro = open_coro(transfer_until_closed, numbers);
    ck_assert_int_eq(resume_for(coro, 0, MTASK_OK), 1);
    ck_assert_status(mtask_coro_close(coro), MTASK_OK);
    ck_assert_ptr_eq(outcome_of(coro, MTASK_OK).value, (void *)90);
    ck_assert_int_eq(resume_for(numbers, 0, MTASK_OK), 2); /* it has noticed nothing */
    drop_coro(numbers);
    end_coro(coro);
}
END_TEST

static void *begin_by_transfer(void *numbers) {
    (void)mtask_coro_transfer((mtask_coro *)numbers, (void *)12345, NULL);
    return NULL;
}

START_TEST(what_is_transferred_to_one_that_has_not_begun_is_dropped) {
    mtask_coro *mirror = open_coro(echo, (void *)1);
    mtask_coro *coro = open_coro(begin_by_transfer, mirror);
    ck_assert_int_eq(resume_for(coro, 0, MTASK_OK), 1);
    ck_assert_int_eq(resume_for(mirror, 2, MTASK_OK), 2);
    drop_coro(coro);
    drop_coro(mirror);
}
END_TEST

/* They transfer to each other at random. */
typedef struct hoppers {
    mtask_coro *members[16];
    long received[16];
    testing_random random;
    long hops;
} hoppers;

static void *hop_about(void *arg) {
    hoppers *all = (hoppers *)arg;
    long self = 0;
    while (all->members[self] != mtask_coro_current())
        self++;
    while (all->hops-- > 0) {
        long to = (long)testing_below(&all->random, 16);
        mtask_status status, expected = to == self ? MTASK_INVALID : MTASK_OK;
        void *in = NULL;
        if (to != self && testing_below(&all->random, 8) == 0)
            status = mtask_coro_yield((void *)self, &in);
        else
            status = mtask_coro_transfer(all->members[to], (void *)1, &in);
        if (status == MTASK_CANCELED)
            return NULL;
        ck_assert_status(status, expected);
        all->received[self] += (long)in;
    }
    return arg;
}

START_TEST(greenlets_hop_about_at_random) {
    hoppers all = {.random = testing_random_make(testing_seed(), 1)};
    long sum = 0;
    all.hops = testing_scale(100000);
    for (int i = 0; i < 16; i++)
        all.members[i] = open_coro(hop_about, &all);
    while (all.hops > 0) {
        mtask_coro *next = all.members[testing_below(&all.random, 16)];
        if (mtask_coro_status(next) != MTASK_CORO_ENDED)
            (void)mtask_coro_resume(next, (void *)1, NULL);
    }
    for (int i = 0; i < 16; i++) {
        sum += all.received[i];
        drop_coro(all.members[i]);
    }
    ck_assert_int_gt(sum, 0);
    ck_assert_uint_eq(mtask_coro_stacks().in_use, 0);
}
END_TEST

/* ---- what else greenlets do ---- */

typedef struct list {
    long items[16];
    int count;
} list;

static void *append_in_turn(void *arg) {
    list *all = (list *)arg;
    long first = all->count;
    all->items[all->count++] = 10 + first;
    (void)yield_long(first);
    all->items[all->count++] = 20 + first;
    return NULL;
}

START_TEST(two_children_run_in_the_order_in_which_they_are_resumed) {
    static const long expected[] = {10, 11, 20, 3, 21};
    list all = {.count = 0};
    mtask_coro *first = open_coro(append_in_turn, &all), *second = open_coro(append_in_turn, &all);
    ck_assert_int_eq(resume_for(first, 0, MTASK_OK), 0);
    ck_assert_int_eq(resume_for(second, 0, MTASK_OK), 1);
    (void)resume_for(first, 0, MTASK_DONE);
    all.items[all.count++] = 3;
    (void)resume_for(second, 0, MTASK_DONE);
    ck_assert_int_eq(all.count, 5);
    ck_assert_mem_eq(all.items, expected, sizeof expected);
    end_coro(first);
    end_coro(second);
}
END_TEST

/* greenlet's hub: one coroutine to which all others transfer when they wait. */
typedef struct hub {
    mtask_coro *hub;
    mtask_coro *ready[32];
    size_t head, tail;
    int alive;
    diary diary;
} hub;

typedef struct worker {
    hub *hub;
    const char *name;
    mtask_coro *coro;
} worker;

static void *work_in_turn(void *arg) {
    worker *self = (worker *)arg;
    for (int i = 0; i < 3; i++) {
        note(&self->hub->diary, self->name);
        self->hub->ready[self->hub->tail++ % 32] = self->coro;
        (void)transfer_long(self->hub->hub, 0);
    }
    self->hub->alive--;
    return arg;
}

static void *run_hub(void *arg) {
    hub *self = (hub *)arg;
    while (self->alive > 0) {
        testing_check(self->head < self->tail);
        (void)transfer_long(self->ready[self->head++ % 32], 0);
    }
    return arg;
}

START_TEST(a_hub_schedules_greenlets_by_transfers) {
    static const char *const names[] = {"a", "b", "c"};
    hub all = {.alive = 3};
    worker workers[3];
    all.hub = open_coro(run_hub, &all);
    for (int i = 0; i < 3; i++) {
        workers[i] = (worker){&all, names[i], NULL};
        workers[i].coro = open_coro(work_in_turn, &workers[i]);
        all.ready[all.tail++] = workers[i].coro;
    }
    /* a worker that ends goes back to here, not to the hub */
    for (int i = 0; i < 3; i++)
        ck_assert_ptr_eq((void *)resume_for(all.hub, 0, MTASK_DONE), &workers[i]);
    ck_assert_ptr_eq((void *)resume_for(all.hub, 0, MTASK_DONE), &all);
    ck_assert_str_eq(all.diary.text, "a b c a b c a b c");
    for (int i = 0; i < 3; i++)
        end_coro(workers[i].coro);
    end_coro(all.hub);
}
END_TEST

/* ---- a coroutine is part of the task that resumes it ---- */

static void *tell_task(void *arg) {
    uint64_t *ids = (uint64_t *)arg;
    for (int i = 0; i < 3; i++) {
        ids[i] = mtask_task_id();
        (void)yield_long(i);
    }
    return NULL;
}

START_TEST(a_coroutine_has_the_number_of_the_task_that_resumes_it) {
    uint64_t ids[3] = {0};
    mtask_coro *coro = open_coro(tell_task, ids);
    for (int i = 0; i < 3; i++) {
        ck_assert_int_eq(resume_for(coro, 0, MTASK_OK), i);
        ck_assert_uint_eq(ids[i], mtask_task_id());
    }
    (void)resume_for(coro, 0, MTASK_DONE);
    end_coro(coro);
}
END_TEST

static void *use_rmutex(void *arg) {
    mtask_rmutex *lock = (mtask_rmutex *)arg;
    ck_assert_status(mtask_rmutex_lock_for(lock, MTASK_NOWAIT), MTASK_OK); /* once more */
    ck_assert_uint_eq(mtask_rmutex_count(lock), 2);
    (void)yield_long(1);
    ck_assert_status(mtask_rmutex_unlock(lock), MTASK_OK);
    ck_assert_status(mtask_rmutex_unlock(lock), MTASK_OK);
    ck_assert_status(mtask_rmutex_unlock(lock), MTASK_NOT_OWNER);
    ck_assert_status(mtask_rmutex_lock(lock), MTASK_OK);
    return NULL;
}

START_TEST(a_coroutine_owns_the_locks_of_the_task_that_resumes_it) {
    mtask_rmutex lock;
    mtask_coro *coro = open_coro(use_rmutex, &lock);
    ck_assert_status(mtask_rmutex_init(&lock, MTASK_PRIVATE), MTASK_OK);
    ck_assert_status(mtask_rmutex_lock(&lock), MTASK_OK);
    (void)resume_for(coro, 0, MTASK_OK);
    ck_assert_uint_eq(mtask_rmutex_count(&lock), 2); /* what the coroutine locked, too */
    (void)resume_for(coro, 0, MTASK_DONE);
    ck_assert_uint_eq(mtask_rmutex_count(&lock), 1);
    ck_assert_status(mtask_rmutex_unlock(&lock), MTASK_OK);
    end_coro(coro);
}
END_TEST

static void *sleep_a_little(void *arg) {
    ck_assert_status(mtask_sleep(MTASK_MS(2)), MTASK_OK);
    (void)yield_long(1);
    ck_assert_status(mtask_sleep(MTASK_MS(2)), MTASK_OK);
    return arg;
}

START_TEST(a_coroutine_that_waits_holds_its_thread_up) {
    mtask_coro *coro = open_coro(sleep_a_little, NULL);
    int64_t start = mtask_now();
    (void)resume_for(coro, 0, MTASK_OK);
    ck_assert_int_ge(mtask_now() - start, MTASK_MS(2));
    (void)resume_for(coro, 0, MTASK_DONE);
    ck_assert_int_ge(mtask_now() - start, MTASK_MS(4));
    end_coro(coro);
}
END_TEST

#ifndef MTASK_CORO_NO_LOOP
/* Two tasks, each with a generator that waits in the middle. */
typedef struct sleeper {
    mtask_coro *coro;
    struct sleeper *other;
    uint64_t task;
    long refusals;
} sleeper;

/* Waits before each item; meanwhile the other task runs. */
static void *yield_slowly(void *arg) {
    sleeper *self = (sleeper *)arg;
    for (long i = 1; i <= 5; i++) {
        size_t left = mtask_coro_stack_left();
        ck_assert_status(i % 2 == 0 ? mtask_yield() : mtask_sleep(MTASK_US(100)), MTASK_OK);
        ck_assert_ptr_eq(mtask_coro_current(), self->coro);
        ck_assert_uint_eq(mtask_coro_stack_left(), left);
        ck_assert_uint_eq(mtask_task_id(), self->task);
        if (mtask_coro_yield((void *)i, NULL) != MTASK_OK)
            break;
    }
    return NULL;
}

static void *run_slow_generator(void *arg) {
    sleeper *self = (sleeper *)arg;
    long sum = 0;
    self->task = mtask_task_id();
    MTASK_FOREACH(item, self->coro) {
        sum += (long)item;
        ck_assert_ptr_null(mtask_coro_current());
        if (mtask_coro_status(self->other->coro) < MTASK_CORO_RUNNING)
            continue;
        /* the other one is in the middle of a wait: it runs, though not now */
        ck_assert(mtask_coro_resume(self->other->coro, NULL, NULL) != MTASK_OK);
        ck_assert(mtask_coro_status(self->other->coro) == MTASK_CORO_ENDED ||
                  mtask_coro_close(self->other->coro) == MTASK_INVALID);
        self->refusals++;
    }
    return (void *)sum;
}

static void *run_slow_generators(void *arg) {
    sleeper two[2] = {{.coro = NULL}};
    mtask_call calls[2] = {{run_slow_generator, &two[0]}, {run_slow_generator, &two[1]}};
    mtask_outcome outcomes[2];
    for (int i = 0; i < 2; i++) {
        two[i].coro = open_coro(yield_slowly, &two[i]);
        two[i].other = &two[1 - i];
    }
    ck_assert_status(mtask_gather(calls, 2, outcomes), MTASK_OK);
    for (int i = 0; i < 2; i++) {
        ck_assert_ptr_eq(outcomes[i].value, (void *)15);
        ck_assert_int_gt(two[i].refusals, 0);
        end_coro(two[i].coro);
    }
    return arg;
}

START_TEST(a_generator_that_waits_parks_the_task_that_resumes_it) {
    ck_assert_ptr_eq(in_loop(run_slow_generators, &errno), &errno);
}
END_TEST
#endif

/* ---- threads ---- */

/* Members take turns in the order of their index. */
typedef struct turns {
    mtask_mutex lock;
    mtask_cond moved;
    long turn, rounds;
    int threads;
    mtask_coro *coro;
} turns;

static void resume_in_turn(testing_member *self) {
    turns *all = (turns *)self->arg;
    for (long round = 0; round < all->rounds; round++) {
        long turn = round * all->threads + self->index;
        MTASK_WITH(&all->lock) {
            while (all->turn != turn)
                ck_assert_status(mtask_cond_wait(&all->moved, &all->lock, MTASK_FOREVER), MTASK_OK);
            ck_assert_int_eq(resume_for(all->coro, turn, MTASK_OK), (long)mtask_task_id());
            ck_assert_ptr_null(mtask_coro_current());
            all->turn++;
            ck_assert_status(mtask_cond_notify_all(&all->moved), MTASK_OK);
        }
    }
}

/* Yields the number of the task that has resumed it. */
static void *tell_who_resumes(void *arg) {
    mtask_coro *self = mtask_coro_current();
    for (long expected = 0;; expected++) {
        void *in;
        if (mtask_coro_yield((void *)(long)mtask_task_id(), &in) != MTASK_OK)
            return arg;
        ck_assert_int_eq((long)in, expected + 1);
        ck_assert_ptr_eq(mtask_coro_current(), self);
    }
}

START_TEST(threads_may_resume_a_coroutine_in_turn) {
    turns all = {.rounds = testing_scale(300), .threads = 3};
    testing_crowd crowd;
    all.coro = open_coro(tell_who_resumes, NULL);
    testing_crowd_start(&crowd, all.threads, resume_in_turn, &all);
    testing_crowd_join(&crowd);
    drop_coro(all.coro);
}
END_TEST

static void fill_own(testing_member *self) {
    mtask_coro *numbers = open_coro(count_to, (void *)lives(20000));
    long sum = 0;
    MTASK_FOREACH(n, numbers) {
        mtask_coro *inner = open_coro(count_to, (void *)2);
        MTASK_FOREACH(m, inner)
            sum += (long)n * (long)m;
        end_coro(inner);
        ck_assert_ptr_null(mtask_coro_current());
    }
    self->number = sum;
    end_coro(numbers);
}

START_TEST(each_thread_has_coroutines_of_its_own) {
    testing_crowd crowd;
    long n = lives(20000);
    testing_crowd_start(&crowd, 4, fill_own, NULL);
    testing_crowd_join(&crowd);
    for (int i = 0; i < 4; i++)
        ck_assert_int_eq(crowd.members[i].number, 3 * (n * (n + 1) / 2));
    ck_assert_uint_eq(mtask_coro_stacks().in_use, 0);
}
END_TEST

static void finish_elsewhere(testing_member *self) {
    mtask_coro **coros = (mtask_coro **)self->arg;
    ck_assert_int_eq(resume_for(coros[0], 0, MTASK_OK), 2); /* go on here, and end here */
    ck_assert_int_eq(resume_for(coros[0], 0, MTASK_DONE), 3);
    drop_coro(coros[1]); /* close here */
    end_coro(coros[2]);  /* it never ran */
    coros[3] = open_coro(count_to, (void *)2);
    ck_assert_int_eq(resume_for(coros[3], 0, MTASK_OK), 1);
}

START_TEST(coroutines_may_end_on_another_thread) {
    mtask_coro *coros[4];
    testing_crowd crowd;
    int closed = 0;
    coros[0] = open_coro(count_to, (void *)2);
    coros[1] = open_coro(count_closing, &closed);
    coros[2] = open_coro(return_arg, NULL);
    (void)resume_for(coros[0], 0, MTASK_OK);
    (void)resume_for(coros[1], 0, MTASK_OK);
    testing_crowd_start(&crowd, 1, finish_elsewhere, coros);
    testing_crowd_join(&crowd);
    ck_assert_int_eq(closed, 1);
    end_coro(coros[0]);
    ck_assert_int_eq(resume_for(coros[3], 0, MTASK_OK), 2); /* its first thread has ended */
    ck_assert_int_eq(resume_for(coros[3], 0, MTASK_DONE), 3);
    end_coro(coros[3]);
}
END_TEST

/* A failure belongs to the task of the thread that resumes. */
static void resume_to_failure(testing_member *self) {
    mtask_outcome outcome;
    ck_assert_status(mtask_failure(NULL), MTASK_OK);
    (void)resume_for((mtask_coro *)self->arg, 0, MTASK_FAILED);
    ck_assert_status(mtask_failure(&outcome), MTASK_BROKEN);
    ck_assert_str_eq(outcome.text, "far away");
}

START_TEST(the_thread_that_resumes_hears_of_the_failure) {
    mtask_coro *coro = open_coro(fail_late, "far away");
    testing_crowd crowd;
    (void)resume_for(coro, 0, MTASK_OK);
    testing_crowd_start(&crowd, 1, resume_to_failure, coro);
    testing_crowd_join(&crowd);
    ck_assert_status(mtask_failure(NULL), MTASK_OK); /* not this task's */
    check_failure(coro, MTASK_BROKEN, "far away");
    end_coro(coro);
}
END_TEST

#if HAS_MODES
# define FPU_TESTS                                                                                 \
  rounding_modes_are_kept_apart, the_end_of_a_coroutine_does_not_change_the_rounding_mode,
#else
# define FPU_TESTS
#endif
#ifndef MTASK_CORO_NO_LOOP
# define LOOP_TESTS                                                                                \
  a_task_of_a_loop_may_have_generators_but_is_none,                                                \
      a_generator_that_waits_parks_the_task_that_resumes_it,
#else
# define LOOP_TESTS
#endif

TESTING_MAIN(
    "mtask_coro", create_makes_a_coroutine_that_has_not_run,
    create_ex_takes_function_argument_and_name, create_refuses_what_cannot_run,
    a_stack_larger_than_memory_is_refused, stacks_have_the_size_that_is_asked_for,
    the_smallest_stack_is_enough_for_a_function_that_calls_no_library,
    a_coroutine_may_live_in_memory_of_its_caller, memory_of_the_caller_is_free_again_after_destroy,
    a_generator_yields_its_items_and_returns, values_travel_both_ways, out_and_in_may_be_null,
    resuming_one_that_has_ended_says_closed_for_ever, yield_outside_of_a_coroutine_is_refused,
    a_function_that_the_coroutine_calls_may_yield,
    a_coroutine_can_be_resumed_a_hundred_thousand_times, thousands_are_alive_at_once,
    a_hundred_thousand_live_and_end_one_after_the_other,
    variables_keep_their_values_across_switches, the_variables_of_the_resumer_keep_their_values,
    stacks_are_aligned_for_every_type, the_c_library_works_in_a_coroutine,
    errno_passes_through_switches_unharmed, FPU_TESTS status_tells_what_each_does,
    a_suspended_generator_may_be_resumed_by_somebody_else,
    a_thousand_coroutines_may_wait_for_each_other,
    a_generator_that_is_already_executing_is_not_resumed,
    LOOP_TESTS a_tree_is_walked_by_recursive_generators,
    closing_the_outermost_generator_closes_all_below, permutations_come_from_recursive_generators,
    a_sieve_is_a_chain_of_generators, queens_are_placed_by_generators_that_backtrack,
    delegation_passes_values_down_and_results_up, close_cancels_the_pending_yield_and_clean_up_runs,
    a_generator_that_goes_on_yielding_is_still_closed, closing_one_that_never_ran_does_not_run_it,
    closing_one_that_has_ended_does_nothing, closing_one_that_has_failed_before_is_no_failure,
    one_that_runs_is_not_closed, one_that_has_resumed_the_closer_is_not_closed,
    close_tells_of_a_failure_of_clean_up, to_end_as_cancelled_is_what_close_asks_for,
    clean_up_may_use_other_generators, clean_up_may_close_others_in_a_long_chain,
    one_that_is_being_closed_is_not_closed_again, close_may_be_called_in_any_coroutine,
    one_in_the_middle_of_its_function_is_not_destroyed,
    destroy_takes_what_never_ran_what_ended_and_null, the_resumer_learns_why_a_coroutine_failed,
    a_failure_has_a_status_and_a_text_of_limited_length, each_coroutine_keeps_its_own_failure,
    a_coroutine_fails_only_by_what_it_returns, a_failure_is_passed_up_through_generators,
    there_is_no_outcome_before_the_end, foreach_runs_once_for_each_item,
    after_a_break_the_generator_is_still_suspended, loops_over_generators_nest,
    two_loops_may_share_a_generator, foreach_ends_when_the_generator_fails,
    next_tells_whether_there_was_an_item, next_resumes_with_null,
    two_greenlets_transfer_to_each_other, outside_of_a_coroutine_transfer_is_resume,
    transfer_hands_values_over, a_ring_of_greenlets_passes_control_round,
    after_transfers_the_resumer_hears_of_the_last,
    the_failure_of_one_transferred_to_goes_to_the_resumer,
    transfers_stay_within_the_resumer_that_began_them,
    one_that_has_transferred_may_be_resumed_by_whom_it_transferred_to,
    transfer_refuses_what_resume_refuses, a_pending_transfer_is_cancelled_by_close,
    what_is_transferred_to_one_that_has_not_begun_is_dropped, greenlets_hop_about_at_random,
    two_children_run_in_the_order_in_which_they_are_resumed, a_hub_schedules_greenlets_by_transfers,
    a_coroutine_has_the_number_of_the_task_that_resumes_it,
    a_coroutine_owns_the_locks_of_the_task_that_resumes_it,
    a_coroutine_that_waits_holds_its_thread_up, threads_may_resume_a_coroutine_in_turn,
    each_thread_has_coroutines_of_its_own, coroutines_may_end_on_another_thread,
    the_thread_that_resumes_hears_of_the_failure)
