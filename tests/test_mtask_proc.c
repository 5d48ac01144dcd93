/* test_mtask_proc.c - processes: how they begin, what they inherit, how they end, who is told */
#define TEST_TIMEOUT 60
#include "testing_proc.h"

#include <dlfcn.h>
#include <limits.h>
#include <malloc.h>
#include <sched.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <wchar.h>

#ifdef MTASK_FORCE_POSIX
enum { CAN_CHOOSE_CPUS = 0 };
#else
enum { CAN_CHOOSE_CPUS = 1 };
#endif

/* The sanitizers do not support all that a child of a process with threads may do: there such
   children use neither threads nor memory. */
#define CHILDREN_MAY_DO_ALL (!TESTING_TSAN && !TESTING_ASAN)

/* With them processes take long to begin. */
#define SLOW (TESTING_TSAN || TESTING_ASAN)

/* Threads of the parent that nobody can join in the child are no leak. */
const char *__tsan_default_options(void);
const char *__tsan_default_options(void) {
    return "die_after_fork=0:report_thread_leaks=0";
}

/* ---- buffers ---- */

static void check_text(const mtask_buf *buf, const char *text) {
    ck_assert_uint_eq(buf->size, strlen(text));
    ck_assert_uint_ge(buf->capacity, buf->size);
    ck_assert_str_eq(buf->data, text);
}

START_TEST(a_buffer_begins_empty_and_is_empty_again_when_freed) {
    mtask_buf buf = {0};
    for (int round = 0; round < 2; round++) {
        ck_assert_status(mtask_buf_append(&buf, "some", 4), MTASK_OK);
        ck_assert_status(mtask_buf_append(&buf, "thing", 5), MTASK_OK);
        ck_assert_status(mtask_buf_append(&buf, NULL, 0), MTASK_OK);
        check_text(&buf, "something");
        mtask_buf_free(&buf);
        ck_assert_ptr_null(buf.data);
        ck_assert_uint_eq(buf.size, 0);
        ck_assert_uint_eq(buf.capacity, 0);
    }
    mtask_buf_free(&buf);
}
END_TEST

START_TEST(a_buffer_keeps_all_that_is_appended) {
    testing_random random = testing_random_make(testing_seed(), 0);
    static unsigned char piece[5000];
    mtask_buf buf = {0};
    size_t total = 0;
    for (int i = 0; i < 200; i++) {
        size_t size = (size_t)testing_below(&random, sizeof piece);
        make_pattern(piece, total, size);
        ck_assert_status(mtask_buf_append(&buf, piece, size), MTASK_OK);
        total += size;
        ck_assert_uint_eq(buf.size, total);
        ck_assert_uint_ge(buf.capacity, total);
        ck_assert(buf.data == NULL || buf.data[total] == '\0');
    }
    check_pattern(buf.data, 0, total);
    mtask_buf_free(&buf);
}
END_TEST

START_TEST(reserved_room_may_be_written) {
    mtask_buf buf = {0};
    ck_assert_status(mtask_buf_reserve(&buf, 1000), MTASK_OK);
    ck_assert_uint_eq(buf.size, 0);
    ck_assert_uint_ge(buf.capacity, 1000);
    ck_assert_int_eq(buf.data[0], '\0');
    make_pattern(buf.data, 0, 1000);
    buf.size = 1000;
    ck_assert_status(mtask_buf_reserve(&buf, 100000), MTASK_OK);
    ck_assert_uint_ge(buf.capacity, 101000);
    make_pattern(buf.data + 1000, 1000, 100000);
    buf.size = 101000;
    check_pattern(buf.data, 0, buf.size);
    ck_assert_status(mtask_buf_reserve(&buf, 0), MTASK_OK);
    mtask_buf_free(&buf);
}
END_TEST

START_TEST(room_that_is_there_is_used) {
    mtask_buf buf = {0};
    char *before;
    ck_assert_status(mtask_buf_reserve(&buf, 4000), MTASK_OK);
    before = buf.data;
    for (int i = 0; i < 400; i++)
        ck_assert_status(mtask_buf_append(&buf, "0123456789", 10), MTASK_OK);
    ck_assert_ptr_eq(buf.data, before);
    ck_assert_uint_eq(buf.size, 4000);
    mtask_buf_free(&buf);
}
END_TEST

START_TEST(a_text_can_be_printed_into_a_buffer) {
    mtask_buf buf = {0};
    ck_assert_status(mtask_buf_printf(&buf, "%s", ""), MTASK_OK);
    ck_assert_uint_eq(buf.size, 0);
    ck_assert_status(mtask_buf_printf(&buf, "%d and %s; ", 12, "more"), MTASK_OK);
    check_text(&buf, "12 and more; ");
    ck_assert_status(mtask_buf_printf(&buf, "%0*d", 70000, 7), MTASK_OK);
    ck_assert_uint_eq(buf.size, 13 + 70000);
    ck_assert_uint_eq(strlen(buf.data), buf.size);
    ck_assert_int_eq(buf.data[13], '0');
    ck_assert_int_eq(buf.data[buf.size - 1], '7');
    mtask_buf_free(&buf);
}
END_TEST

START_TEST(what_a_buffer_refuses_changes_nothing) {
    static const wchar_t no_character[] = {(wchar_t)0x7fffffff, 0};
    mtask_buf buf = {0};
    char *before;
    ck_assert_status(mtask_buf_append(&buf, "kept", 4), MTASK_OK);
    before = buf.data;
    ck_assert_status(mtask_buf_reserve(&buf, SIZE_MAX), MTASK_NOMEM);
    ck_assert_status(mtask_buf_reserve(&buf, SIZE_MAX - 4), MTASK_NOMEM);
    ck_assert_status(mtask_buf_reserve(&buf, SIZE_MAX / 2 + 1), MTASK_NOMEM);
    ck_assert_status(mtask_buf_printf(&buf, "%ls", no_character), MTASK_INVALID);
    ck_assert_status(mtask_buf_append(&buf, NULL, 1), MTASK_INVALID);
    ck_assert_ptr_eq(buf.data, before);
    check_text(&buf, "kept");
    ck_assert_status(mtask_buf_reserve(NULL, 1), MTASK_INVALID);
    ck_assert_status(mtask_buf_append(NULL, "a", 1), MTASK_INVALID);
    ck_assert_status(mtask_buf_printf(NULL, "a"), MTASK_INVALID);
    mtask_buf_free(&buf);
}
END_TEST

/* ---- values and failures ---- */

static long private_number = 1;
static pid_t test_pid;

static void *multiply(void *arg) {
    IN_CHILD(getpid() != test_pid && getppid() == test_pid);
    return (void *)(intptr_t)(private_number++ * (long)(intptr_t)arg);
}

START_TEST(a_process_runs_a_function_in_a_copy_of_the_memory) {
    test_pid = getpid();
    private_number = 3;
    for (intptr_t i = 0; i < 3; i++) {
        mtask_proc *proc = start_proc(multiply, (void *)i);
        pid_t pid = mtask_proc_pid(proc);
        ck_assert(pid > 0 && pid != test_pid);
        ck_assert_int_eq(join_proc(proc, MTASK_OK).value == (void *)(3 * i), 1);
        ck_assert_int_eq(exitcode_of(proc), 0);
        ck_assert_int_eq(mtask_proc_pid(proc), pid);
        ck_assert_int_eq(state_of(pid), 0);
        ck_assert_status(mtask_proc_close(proc), MTASK_OK);
    }
    ck_assert_int_eq(private_number, 3);
}
END_TEST

static void *return_arg(void *arg) {
    return arg;
}

START_TEST(a_value_comes_back_whole) {
    static const uintptr_t values[] = {0, 1, UINTPTR_MAX, UINTPTR_MAX / 3, UINTPTR_MAX / 2 + 1};
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        mtask_outcome outcome = end_proc(start_proc(return_arg, (void *)values[i]), MTASK_OK);
        ck_assert_uint_eq((uintptr_t)outcome.value, values[i]);
        ck_assert_str_eq(outcome.text, "");
    }
}
END_TEST

static void *fail_with(void *arg) {
    mtask_status status = (mtask_status)(intptr_t)arg;
    return mtask_fail(status, "the reason is %s", mtask_status_name(status));
}

START_TEST(the_parent_learns_the_status_and_text_of_a_failure) {
    for (int i = 0; i < MTASK_STATUS_COUNT; i++) {
        mtask_proc *proc = start_proc(fail_with, (void *)(intptr_t)i);
        mtask_outcome outcome = join_proc(proc, MTASK_FAILED);
        char text[MTASK_TEXT_SIZE];
        snprintf(text, sizeof text, "the reason is %s", mtask_status_name((mtask_status)i));
        ck_assert_status(outcome.status, i == MTASK_OK ? MTASK_FAILED : (mtask_status)i);
        ck_assert_str_eq(outcome.text, text);
        ck_assert_int_eq(exitcode_of(proc), 1);
        ck_assert_status(mtask_proc_close(proc), MTASK_OK);
    }
}
END_TEST

static void *fail_at_length(void *arg) {
    (void)arg;
    return mtask_fail(MTASK_AUTH, "%0200d", 1);
}

static void *fail_without_text(void *arg) {
    (void)arg;
    return mtask_fail(MTASK_FULL, NULL);
}

START_TEST(a_failures_text_may_be_too_long_or_missing) {
    mtask_outcome outcome = end_proc(start_proc(fail_at_length, NULL), MTASK_FAILED);
    ck_assert_status(outcome.status, MTASK_AUTH);
    ck_assert_uint_eq(strlen(outcome.text), MTASK_TEXT_SIZE - 1);
    outcome = end_proc(start_proc(fail_without_text, NULL), MTASK_FAILED);
    ck_assert_status(outcome.status, MTASK_FULL);
    ck_assert_str_eq(outcome.text, "");
}
END_TEST

/* What a `call` does: fails with `given`, unless that is negative, and returns `returned`. */
typedef struct call_failure {
    int given;
    mtask_status returned;
    mtask_status expected;
} call_failure;

static const call_failure call_failures[] = {
    {MTASK_EMPTY, MTASK_EMPTY, MTASK_EMPTY}, {MTASK_EMPTY, MTASK_OK, MTASK_EMPTY},
    {MTASK_OK, MTASK_OK, MTASK_FAILED},      {MTASK_EMPTY, MTASK_NOMEM, MTASK_NOMEM},
    {-1, MTASK_TIMEOUT, MTASK_TIMEOUT},
};

static mtask_status fail_as_told(const void *in, size_t size, mtask_buf *out) {
    call_failure failure;
    IN_CHILD(size == sizeof failure);
    memcpy(&failure, in, size);
    IN_CHILD(mtask_buf_append(out, "result", 6) == MTASK_OK);
    if (failure.given >= 0)
        (void)mtask_fail((mtask_status)failure.given, "told %d", failure.given);
    return failure.returned;
}

static void check_call_failure(mtask_proc_method method, const call_failure *failure) {
    mtask_proc *proc = start_call(method, fail_as_told, failure, sizeof *failure);
    mtask_outcome outcome = join_proc(proc, MTASK_FAILED);
    mtask_buf result = {0};
    char text[MTASK_TEXT_SIZE] = "";
    if (failure->given >= 0)
        snprintf(text, sizeof text, "told %d", failure->given);
    ck_assert_status(outcome.status, failure->expected);
    ck_assert_str_eq(outcome.text, text);
    ck_assert_int_eq(exitcode_of(proc), 1);
    ck_assert_status(mtask_proc_result(proc, &result), MTASK_FAILED);
    ck_assert_uint_eq(result.size, 0);
    ck_assert_status(mtask_proc_close(proc), MTASK_OK);
}

static void check_call_failures(mtask_proc_method method) {
    for (size_t i = 0; i < sizeof call_failures / sizeof call_failures[0]; i++)
        check_call_failure(method, &call_failures[i]);
}

START_TEST(a_call_fails_by_what_it_returns_or_by_mtask_fail) {
    by_each_method(check_call_failures);
}
END_TEST

/* ---- exit codes ---- */

typedef enum ending_kind {
    RETURNS,
    EXITS,         /* by exit(number) */
    EXITS_AT_ONCE, /* by _exit(number) */
    RAISES,        /* signal `number` */
    ABORTS
} ending_kind;

typedef struct ending {
    ending_kind kind;
    int number;
    int code; /* its exit code */
    mtask_status status;
} ending;

static const ending endings[] = {
    {RETURNS, 0, 0, MTASK_OK},
    {EXITS, 0, 0, MTASK_OK},
    {EXITS, 7, 7, MTASK_FAILED},
    {EXITS_AT_ONCE, 0, 0, MTASK_OK},
    {EXITS_AT_ONCE, 1, 1, MTASK_FAILED},
    {EXITS_AT_ONCE, 255, 255, MTASK_FAILED},
    {RAISES, SIGKILL, -SIGKILL, MTASK_CRASHED},
    {RAISES, SIGTERM, -SIGTERM, MTASK_CRASHED},
    {RAISES, SIGUSR1, -SIGUSR1, MTASK_CRASHED},
    {ABORTS, 0, -SIGABRT, MTASK_CRASHED},
};

static mtask_status end_so(const void *in, size_t size, mtask_buf *out) {
    ending how;
    IN_CHILD(size == sizeof how);
    memcpy(&how, in, size);
    IN_CHILD(mtask_buf_append(out, "r", 1) == MTASK_OK);
    switch (how.kind) {
    case EXITS:
        exit(how.number);
    case EXITS_AT_ONCE:
        _exit(how.number);
    case RAISES:
        raise(how.number);
        break;
    case ABORTS:
        abort();
    default:
        break;
    }
    return MTASK_OK;
}

static void check_ending(mtask_proc_method method, const ending *how) {
    mtask_proc *proc = start_call(method, end_so, how, sizeof *how);
    bool well = how->status == MTASK_OK;
    mtask_outcome outcome = join_proc(proc, well ? MTASK_OK : MTASK_FAILED);
    mtask_buf result = {0};
    ck_assert_status(outcome.status, how->status);
    ck_assert_ptr_null(outcome.value);
    ck_assert_int_eq(outcome.text[0] == '\0', well);
    ck_assert_int_eq(exitcode_of(proc), how->code);
    ck_assert_status(mtask_proc_result(proc, &result),
                     how->kind == RETURNS ? MTASK_OK : MTASK_FAILED);
    mtask_buf_free(&result);
    ck_assert_status(mtask_proc_close(proc), MTASK_OK);
}

static void check_endings(mtask_proc_method method) {
    for (size_t i = 0; i < sizeof endings / sizeof endings[0]; i++)
        check_ending(method, &endings[i]);
}

START_TEST(exit_codes_and_signals_are_told) {
    by_each_method(check_endings);
}
END_TEST

static void *run_program(void *arg) {
    const char *path = (const char *)arg;
    execl(path, path, (char *)NULL);
    return arg;
}

START_TEST(a_process_may_become_another_program) {
    static char good[] = "/bin/true", bad[] = "/bin/false";
    mtask_outcome outcome;
    ck_assert_int_eq(take_proc(start_proc(run_program, good)), 0);
    outcome = end_proc(start_proc(run_program, bad), MTASK_FAILED);
    ck_assert_status(outcome.status, MTASK_FAILED);
}
END_TEST

static long *at_exit; /* shared */

static void count_exit(void) {
    ++*at_exit;
}

static void *exit_by_arg(void *arg) {
    if (arg != NULL)
        exit(0);
    return NULL;
}

START_TEST(exit_runs_atexit_functions_and_returning_does_not) {
    at_exit = (long *)share_memory(sizeof *at_exit);
    ck_assert_int_eq(atexit(count_exit), 0);
    (void)take_proc(start_proc(exit_by_arg, NULL));
    ck_assert_int_eq(*at_exit, 0);
    (void)take_proc(start_proc(exit_by_arg, at_exit));
    ck_assert_int_eq(*at_exit, 1);
}
END_TEST

/* ---- joining ---- */

START_TEST(a_join_waits_as_long_as_it_may) {
    wires pair;
    mtask_proc *proc;
    int64_t start;
    int code = 5;
    open_wires(&pair);
    proc = start_waiting(MTASK_PROC_FORK, &pair, false);
    start = mtask_now();
    ck_assert_status(mtask_proc_join(proc, NULL, MTASK_MS(5)), MTASK_TIMEOUT);
    ck_assert_int_ge(mtask_now() - start, MTASK_MS(5));
    ck_assert_status(mtask_proc_join(proc, NULL, MTASK_NOWAIT), MTASK_TIMEOUT);
    ck_assert_status(mtask_proc_join(proc, NULL, -1), MTASK_INVALID);
    ck_assert_status(mtask_proc_exitcode(proc, &code), MTASK_TIMEOUT);
    ck_assert_int_eq(code, 5);
    ck_assert(mtask_proc_is_alive(proc));
    say_go(&pair);
    ck_assert_status(mtask_proc_join(proc, NULL, MTASK_SEC(1000)), MTASK_OK);
    ck_assert(!mtask_proc_is_alive(proc));
    ck_assert_status(mtask_proc_join(proc, NULL, MTASK_NOWAIT), MTASK_OK);
    ck_assert_status(mtask_proc_join(proc, NULL, -1), MTASK_INVALID);
    ck_assert_status(mtask_proc_close(proc), MTASK_OK);
    end_wires(&pair);
}
END_TEST

static void check_unjoined(mtask_proc_method method) {
    mtask_proc *proc = start_call(method, end_so, &endings[4], sizeof endings[4]);
    int code = 0;
    mtask_status status;
    while (mtask_proc_is_alive(proc))
        testing_pause(1);
    status = mtask_proc_exitcode(proc, &code);
    ck_assert_status(status, MTASK_OK);
    ck_assert_int_eq(code, 1);
    ck_assert_int_eq(state_of(mtask_proc_pid(proc)), 0);
    for (int i = 0; i < 2; i++) {
        mtask_outcome outcome;
        ck_assert_status(mtask_proc_join(proc, &outcome, MTASK_NOWAIT), MTASK_FAILED);
        ck_assert_status(outcome.status, MTASK_FAILED);
    }
    ck_assert_status(mtask_proc_close(proc), MTASK_OK);
}

START_TEST(the_end_of_a_process_is_seen_without_a_join) {
    by_each_method(check_unjoined);
}
END_TEST

START_TEST(processes_may_be_joined_in_any_order) {
    enum { COUNT = 12 };
    mtask_proc *procs[COUNT];
    for (intptr_t i = 0; i < COUNT; i++)
        procs[i] = start_proc(return_arg, (void *)(i + 1));
    for (int i = COUNT - 1; i >= 0; i -= 2)
        ck_assert_int_eq(take_proc(procs[i]), i + 1);
    for (int i = 0; i < COUNT; i += 2)
        ck_assert_int_eq(take_proc(procs[i]), i + 1);
}
END_TEST

/* Joins a process that fails with MTASK_EMPTY. */
static void *join_failure(void *arg) {
    mtask_outcome outcome = join_proc((mtask_proc *)arg, MTASK_FAILED);
    ck_assert_status(outcome.status, MTASK_EMPTY);
    ck_assert_str_eq(outcome.text, "told");
    return arg;
}

static void *join_in_tasks(void *arg) {
    mtask_future *futures[3];
    for (int i = 0; i < 3; i++)
        futures[i] = go(join_failure, arg);
    for (int i = 0; i < 3; i++)
        ck_assert_ptr_eq(take(futures[i]), arg);
    return arg;
}

static void joiner(testing_member *self) {
    if (self->index % 2 == 0)
        (void)join_failure(self->arg);
    else
        (void)in_loop(join_in_tasks, self->arg);
}

static mtask_status fail_on_go(const void *in, size_t size, mtask_buf *out) {
    (void)wait_for_go(in, size, out);
    (void)mtask_fail(MTASK_EMPTY, "told");
    return MTASK_EMPTY;
}

static void check_joiners(mtask_proc_method method) {
    wires pair;
    mtask_proc *proc;
    testing_crowd crowd;
    open_wires(&pair);
    proc = start_wired(method, fail_on_go, &pair, false);
    ck_assert_int_eq(hear(&pair), 'b');
    testing_crowd_start(&crowd, 6, joiner, proc);
    testing_pause(5);
    ck_assert_int_eq(testing_crowd_finished(&crowd), 0);
    say_go(&pair);
    testing_crowd_join(&crowd);
    (void)join_failure(proc);
    ck_assert_status(mtask_proc_close(proc), MTASK_OK);
    end_wires(&pair);
}

START_TEST(several_threads_and_tasks_may_join_a_process) {
    by_each_method(check_joiners);
}
END_TEST

/* What a task says of a join that it made. */
typedef struct join_call {
    mtask_proc *proc;
    wires *pair;
    mtask_status status;
    int64_t timeout;
} join_call;

static void *make_join(void *arg) {
    join_call *join = (join_call *)arg;
    join->status = mtask_proc_join(join->proc, NULL, join->timeout);
    return arg;
}

static void *join_while_others_run(void *arg) {
    join_call *join = (join_call *)arg;
    mtask_future *future = go(make_join, join);
    for (int i = 0; i < 5; i++) {
        ck_assert_status(mtask_sleep(MTASK_US(100)), MTASK_OK);
        ck_assert(!mtask_future_done(future));
    }
    say_go(join->pair);
    (void)take(future);
    ck_assert_status(join->status, MTASK_OK);
    return arg;
}

static void check_parking(mtask_proc_method method) {
    wires pair;
    join_call join = {.pair = &pair, .timeout = MTASK_FOREVER};
    open_wires(&pair);
    join.proc = start_waiting(method, &pair, false);
    (void)in_loop(join_while_others_run, &join);
    ck_assert_status(mtask_proc_close(join.proc), MTASK_OK);
    end_wires(&pair);
}

START_TEST(a_task_that_joins_lets_others_run) {
    by_each_method(check_parking);
}
END_TEST

static void *join_in_vain(void *arg) {
    join_call *join = (join_call *)arg;
    int64_t start = mtask_now();
    mtask_future *future;
    join->timeout = MTASK_MS(3);
    (void)make_join(join);
    ck_assert_status(join->status, MTASK_TIMEOUT);
    ck_assert_int_ge(mtask_now() - start, MTASK_MS(3));
    join->timeout = MTASK_FOREVER;
    ck_assert_status(mtask_with_timeout(MTASK_MS(2), make_join, join, NULL), MTASK_TIMEOUT);
    ck_assert_status(join->status, MTASK_CANCELED);
    future = go(make_join, join);
    take_turns();
    ck_assert_status(mtask_future_cancel(future), MTASK_OK);
    (void)take(future);
    ck_assert_status(join->status, MTASK_CANCELED);
    ck_assert(mtask_proc_is_alive(join->proc));
    say_go(join->pair);
    (void)make_join(join);
    ck_assert_status(join->status, MTASK_OK);
    return arg;
}

START_TEST(a_join_can_be_cancelled_and_the_process_goes_on) {
    wires pair;
    join_call join = {.pair = &pair};
    open_wires(&pair);
    join.proc = start_waiting(MTASK_PROC_FORK, &pair, false);
    (void)in_loop(join_in_vain, &join);
    ck_assert_status(mtask_proc_close(join.proc), MTASK_OK);
    end_wires(&pair);
}
END_TEST

/* ---- inputs and results ---- */

/* Its result is its input, in two halves. */
static mtask_status echo(const void *in, size_t size, mtask_buf *out) {
    IN_CHILD((uintptr_t)in % 16 == 0);
    IN_CHILD(out->size == 0);
    if (size == 0)
        return MTASK_OK;
    if (mtask_buf_append(out, in, size / 2) != MTASK_OK)
        return MTASK_NOMEM;
    return mtask_buf_append(out, (const char *)in + size / 2, size - size / 2);
}

static void check_echo(mtask_proc_method method, const char *bytes, size_t size) {
    char *given = (char *)malloc(size + 1);
    mtask_buf result = {0};
    mtask_proc *proc;
    ck_assert_ptr_nonnull(given);
    memcpy(given + 1, bytes, size); /* not aligned to anything */
    proc = start_call(method, echo, given + 1, size);
    memset(given, 0, size + 1); /* it was copied */
    free(given);
    ck_assert_status(mtask_buf_append(&result, "before ", 7), MTASK_OK);
    ck_assert_ptr_null(join_proc(proc, MTASK_OK).value);
    for (size_t i = 1; i <= 2; i++) {
        ck_assert_status(mtask_proc_result(proc, &result), MTASK_OK);
        ck_assert_uint_eq(result.size, 7 + i * size);
        ck_assert_int_eq(memcmp(result.data + 7 + (i - 1) * size, bytes, size), 0);
        ck_assert_int_eq(result.data[result.size], '\0');
    }
    ck_assert_int_eq(memcmp(result.data, "before ", 7), 0);
    mtask_buf_free(&result);
    ck_assert_status(mtask_proc_close(proc), MTASK_OK);
}

enum { MOST_BYTES = 5 << 20 };

static void check_echoes(mtask_proc_method method) {
    static const size_t sizes[] = {0, 1, 17, 4095, 4096, 65537, MOST_BYTES};
    static char bytes[MOST_BYTES];
    make_pattern(bytes, 0, sizeof bytes);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        check_echo(method, bytes, sizes[i]);
}

START_TEST(inputs_and_results_of_any_size_arrive) {
    by_each_method(check_echoes);
}
END_TEST

static mtask_status say_yes_on_go(const void *in, size_t size, mtask_buf *out) {
    mtask_status status = wait_for_go(in, size, out);
    return status != MTASK_OK ? status : mtask_buf_printf(out, "yes");
}

static void check_early_result(mtask_proc_method method) {
    mtask_buf result = {0};
    mtask_proc *proc;
    wires pair;
    open_wires(&pair);
    proc = start_wired(method, say_yes_on_go, &pair, false);
    ck_assert_int_eq(hear(&pair), 'b');
    ck_assert_status(mtask_proc_result(proc, &result), MTASK_TIMEOUT);
    ck_assert_uint_eq(result.size, 0);
    say_go(&pair);
    (void)join_proc(proc, MTASK_OK);
    ck_assert_status(mtask_proc_result(proc, &result), MTASK_OK);
    check_text(&result, "yes");
    mtask_buf_free(&result);
    ck_assert_status(mtask_proc_close(proc), MTASK_OK);
    end_wires(&pair);
}

START_TEST(a_result_is_there_when_the_process_has_ended) {
    by_each_method(check_early_result);
}
END_TEST

/* ---- programs that reap, too ---- */

static void check_reaped(mtask_proc_method method) {
    mtask_buf result = {0};
    mtask_proc *proc = start_call(method, echo, "value", 5);
    mtask_outcome outcome;
    await_end(mtask_proc_pid(proc));
    (void)waitpid(-1, NULL, WNOHANG);
    (void)join_proc(proc, MTASK_OK); /* how it ended is known all the same */
    ck_assert_status(mtask_proc_result(proc, &result), MTASK_OK);
    check_text(&result, "value");
    mtask_buf_free(&result);
    ck_assert_status(mtask_proc_close(proc), MTASK_OK);
    proc = start_call(method, end_so, &endings[7], sizeof endings[7]);
    await_end(mtask_proc_pid(proc));
    (void)waitpid(-1, NULL, WNOHANG);
    ck_assert_status(mtask_proc_join(proc, &outcome, MTASK_FOREVER), MTASK_FAILED);
    ck_assert_status(mtask_proc_close(proc), MTASK_OK);
}

START_TEST(a_program_that_reaps_its_children_itself_learns_their_values) {
    by_each_method(check_reaped);
}
END_TEST

START_TEST(a_program_that_ignores_sigchld_learns_their_values) {
    signal(SIGCHLD, SIG_IGN);
    by_each_method(check_reaped);
}
END_TEST

/* ---- signals ---- */

static void check_death(mtask_proc *proc, int number) {
    mtask_outcome outcome = join_proc(proc, MTASK_FAILED);
    ck_assert_status(outcome.status, MTASK_CRASHED);
    ck_assert_int_ne(outcome.text[0], '\0');
    ck_assert_int_eq(exitcode_of(proc), -number);
    ck_assert(!mtask_proc_is_alive(proc));
    ck_assert_status(mtask_proc_terminate(proc), MTASK_OK); /* nobody gets these */
    ck_assert_status(mtask_proc_kill(proc), MTASK_OK);
    ck_assert_status(mtask_proc_signal(proc, SIGUSR1), MTASK_OK);
    ck_assert_status(mtask_proc_close(proc), MTASK_OK);
}

static void check_signals(mtask_proc_method method) {
    mtask_proc *proc;
    wires pair;
    open_wires(&pair);
    proc = start_waiting(method, &pair, false);
    ck_assert_status(mtask_proc_terminate(proc), MTASK_OK);
    check_death(proc, SIGTERM);
    proc = start_waiting(method, &pair, false);
    ck_assert_status(mtask_proc_kill(proc), MTASK_OK);
    check_death(proc, SIGKILL);
    proc = start_waiting(method, &pair, false);
    ck_assert_status(mtask_proc_signal(proc, -1), MTASK_INVALID);
    ck_assert_status(mtask_proc_signal(proc, 1000), MTASK_INVALID);
    ck_assert(mtask_proc_is_alive(proc));
    ck_assert_status(mtask_proc_signal(proc, SIGUSR2), MTASK_OK);
    check_death(proc, SIGUSR2);
    end_wires(&pair);
}

START_TEST(a_process_can_be_terminated_killed_and_sent_any_signal) {
    by_each_method(check_signals);
}
END_TEST

/* Ends successfully at SIGTERM. */
static void return_at_sigterm(int number) {
    (void)number;
}

static mtask_status await_sigterm(const void *in, size_t size, mtask_buf *out) {
    struct sigaction action;
    wires pair;
    char letter;
    (void)out;
    memset(&action, 0, sizeof action);
    action.sa_handler = return_at_sigterm;
    IN_CHILD(size == sizeof pair && sigaction(SIGTERM, &action, NULL) == 0);
    memcpy(&pair, in, size);
    tell(&pair, 'b');
    while (read(pair.go[0], &letter, 1) > 0) {
    }
    return errno == EINTR ? MTASK_OK : MTASK_SYSTEM;
}

static void check_handler(mtask_proc_method method) {
    mtask_proc *proc;
    wires pair;
    open_wires(&pair);
    proc = start_wired(method, await_sigterm, &pair, false);
    ck_assert_int_eq(hear(&pair), 'b');
    await_state(mtask_proc_pid(proc), 'S');
    ck_assert_status(mtask_proc_terminate(proc), MTASK_OK);
    (void)end_proc(proc, MTASK_OK);
    end_wires(&pair);
}

START_TEST(a_process_may_handle_its_signals) {
    by_each_method(check_handler);
}
END_TEST

static void check_stopped(mtask_proc_method method) {
    mtask_proc *proc;
    wires pair;
    int code;
    open_wires(&pair);
    proc = start_waiting(method, &pair, false);
    ck_assert_status(mtask_proc_signal(proc, SIGSTOP), MTASK_OK);
    await_state(mtask_proc_pid(proc), 'T');
    ck_assert_status(mtask_proc_join(proc, NULL, MTASK_MS(2)), MTASK_TIMEOUT);
    ck_assert_status(mtask_proc_exitcode(proc, &code), MTASK_TIMEOUT);
    ck_assert_status(mtask_proc_close(proc), MTASK_INVALID);
    ck_assert(mtask_proc_is_alive(proc));
    ck_assert_status(mtask_proc_signal(proc, SIGCONT), MTASK_OK);
    say_go(&pair);
    (void)end_proc(proc, MTASK_OK);
    end_wires(&pair);
}

START_TEST(a_stopped_process_has_not_ended) {
    by_each_method(check_stopped);
}
END_TEST

/* Which signals are blocked, and which ignored, of the first 31. */
static mtask_status tell_signals(const void *in, size_t size, mtask_buf *out) {
    sigset_t blocked;
    (void)in;
    (void)size;
    IN_CHILD(sigprocmask(SIG_BLOCK, NULL, &blocked) == 0);
    for (int number = 1; number < 32; number++) {
        struct sigaction action;
        IN_CHILD(sigaction(number, NULL, &action) == 0);
        (void)mtask_buf_printf(out, "%d%d", sigismember(&blocked, number),
                               action.sa_handler == SIG_IGN);
    }
    return MTASK_OK;
}

/* Which of them a new process has. */
static void check_signal_state(mtask_proc_method method, const char *expected) {
    mtask_buf result = {0};
    mtask_proc *proc = start_call(method, tell_signals, NULL, 0);
    (void)join_proc(proc, MTASK_OK);
    ck_assert_status(mtask_proc_result(proc, &result), MTASK_OK);
    check_text(&result, expected);
    mtask_buf_free(&result);
    ck_assert_status(mtask_proc_close(proc), MTASK_OK);
}

START_TEST(a_forked_process_blocks_the_signals_that_its_parent_does) {
    mtask_buf usual = {0}, here = {0};
    sigset_t some;
    ck_assert_status(tell_signals(NULL, 0, &usual), MTASK_OK);
    sigemptyset(&some);
    sigaddset(&some, SIGUSR2);
    ck_assert_int_eq(sigprocmask(SIG_BLOCK, &some, NULL), 0);
    signal(SIGPIPE, SIG_IGN);
    ck_assert_status(tell_signals(NULL, 0, &here), MTASK_OK);
    ck_assert_str_ne(here.data, usual.data);
    check_signal_state(MTASK_PROC_FORK, here.data);
    check_signal_state(MTASK_PROC_SPAWN, usual.data); /* others begin with none */
    check_signal_state(MTASK_PROC_FORKSERVER, usual.data);
    mtask_buf_free(&usual);
    mtask_buf_free(&here);
}
END_TEST

/* ---- sentinels ---- */

static int sentinel_of(mtask_proc *proc) {
    int fd = -1;
    ck_assert_status(mtask_proc_sentinel(proc, &fd), MTASK_OK);
    testing_check(fd >= 0);
    return fd;
}

/* Waits for a sentinel, in each way in which one can. */
static void *await_sentinel(void *arg) {
    int fd = *(int *)arg;
    mtask_conn_case one = {.fd = fd};
    mtask_io_case other = {fd, MTASK_IO_READ, 0};
    ck_assert_status(mtask_io_wait(fd, MTASK_IO_READ, MTASK_FOREVER), MTASK_OK);
    ck_assert_status(mtask_io_select(&other, 1, MTASK_FOREVER), MTASK_OK);
    ck_assert_status(mtask_conn_wait(&one, 1, MTASK_FOREVER), MTASK_OK);
    testing_check(one.ready && other.ready == MTASK_IO_READ);
    return arg;
}

static void sentinel_waiter(testing_member *self) {
    if (self->index % 2 == 0)
        (void)await_sentinel(self->arg);
    else
        (void)in_loop(await_sentinel, self->arg);
}

static void check_sentinel(mtask_proc_method method) {
    testing_crowd crowd;
    mtask_proc *proc;
    wires pair;
    int fd;
    open_wires(&pair);
    proc = start_waiting(method, &pair, false);
    if (!HAS_PIDFD && method != MTASK_PROC_FORKSERVER) {
        ck_assert_status(mtask_proc_sentinel(proc, &fd), MTASK_UNSUPPORTED);
        say_go(&pair);
        (void)end_proc(proc, MTASK_OK);
        end_wires(&pair);
        return;
    }
    fd = sentinel_of(proc);
    ck_assert_int_eq(sentinel_of(proc), fd);
    ck_assert_int_eq(polled(fd, POLLIN), 0);
    ck_assert_status(mtask_io_wait(fd, MTASK_IO_READ, MTASK_MS(1)), MTASK_TIMEOUT);
    testing_crowd_start(&crowd, 4, sentinel_waiter, &fd);
    testing_crowd_await_asleep(&crowd, 4);
    say_go(&pair);
    testing_crowd_join(&crowd);
    (void)join_proc(proc, MTASK_OK);
    ck_assert_int_ne(polled(fd, POLLIN), 0);
    ck_assert_int_eq(sentinel_of(proc), fd);
    ck_assert_status(mtask_proc_close(proc), MTASK_OK);
    end_wires(&pair);
}

START_TEST(a_sentinel_tells_the_end) {
    by_each_method(check_sentinel);
}
END_TEST

START_TEST(a_sentinel_of_one_that_has_ended_is_ready) {
    mtask_proc *proc = start_call(MTASK_PROC_SPAWN, echo, "in", 2);
    (void)join_proc(proc, MTASK_OK);
    ck_assert_int_ne(polled(sentinel_of(proc), POLLIN), 0);
    ck_assert_status(mtask_proc_close(proc), MTASK_OK);
}
END_TEST

/* Waits for connections and sentinels until all have been ready, as a pool of processes would. */
static void *await_all(void *arg) {
    mtask_conn_case *cases = (mtask_conn_case *)arg;
    for (int left = 4; left > 0;) {
        ck_assert_status(mtask_conn_wait(cases, 4, MTASK_FOREVER), MTASK_OK);
        for (int i = 0; i < 4; i++) {
            if (!cases[i].ready)
                continue;
            cases[i].conn = NULL;
            cases[i].fd = -1;
            cases[i].ready = false;
            left--;
        }
    }
    return arg;
}

START_TEST(connections_and_sentinels_can_be_awaited_together) {
    mtask_proc_method methods[] = {MTASK_PROC_FORKSERVER, MTASK_PROC_FORK};
    mtask_conn_case cases[4];
    mtask_conn *ends[2][2];
    mtask_proc *procs[2];
    memset(cases, 0, sizeof cases);
    methods[1] = HAS_PIDFD ? MTASK_PROC_FORK : MTASK_PROC_FORKSERVER;
    for (int i = 0; i < 2; i++) {
        ck_assert_status(mtask_pipe(&ends[i][0], &ends[i][1], false), MTASK_OK);
        ck_assert_status(mtask_conn_send(ends[i][1], "message", 7, MTASK_FOREVER), MTASK_OK);
        procs[i] = start_call(methods[i], echo, "in", 2);
        cases[i].conn = ends[i][0];
        cases[2 + i].fd = sentinel_of(procs[i]);
    }
    (void)await_all(cases);
    for (int i = 0; i < 2; i++) {
        (void)end_proc(procs[i], MTASK_OK);
        ck_assert_status(mtask_conn_close(ends[i][0]), MTASK_OK);
        ck_assert_status(mtask_conn_close(ends[i][1]), MTASK_OK);
    }
}
END_TEST

/* ---- handles ---- */

static void check_close(mtask_proc_method method) {
    mtask_proc *proc;
    wires pair;
    pid_t pid;
    int before = 0;
    open_wires(&pair);
    wait_once();
    for (int round = 0; round < 3; round++) { /* what the first start opens is open then */
        proc = start_waiting(method, &pair, false);
        pid = mtask_proc_pid(proc);
        ck_assert_status(mtask_proc_close(proc), MTASK_INVALID);
        ck_assert(mtask_proc_is_alive(proc));
        say_go(&pair);
        ck_assert_int_eq(hear(&pair), 'e');
        await_end(pid);
        while (method == MTASK_PROC_FORKSERVER && mtask_proc_is_alive(proc))
            testing_pause(1);
        ck_assert_status(mtask_proc_close(proc), MTASK_OK);
        ck_assert_int_eq(state_of(pid), 0);
        ck_assert(round < 2 || count_fds() == before);
        before = count_fds();
    }
    end_wires(&pair);
}

START_TEST(a_handle_can_be_closed_when_the_process_has_ended) {
    ck_assert_status(mtask_proc_close(NULL), MTASK_OK);
    by_each_method(check_close);
}
END_TEST

typedef void (*notice_fn)(void);

static void notice_by_start(void) {
    (void)take_proc(start_proc(return_arg, NULL));
}

static void notice_by_enumerate(void) {
    size_t count;
    ck_assert_status(mtask_proc_enumerate(NULL, 0, &count), MTASK_OK);
    ck_assert_uint_eq(count, 0);
}

static void notice_by_join_all(void) {
    ck_assert_status(mtask_proc_join_all(MTASK_FOREVER), MTASK_OK);
}

/* Releases a process that runs, or, if `late`, one that has ended. */
static void check_release(mtask_proc_method method, notice_fn notice, bool late) {
    mtask_proc *proc;
    wires pair;
    pid_t pid;
    open_wires(&pair);
    proc = start_waiting(method, &pair, false);
    pid = mtask_proc_pid(proc);
    if (!late)
        mtask_proc_release(proc);
    say_go(&pair);
    await_end(pid);
    if (late)
        mtask_proc_release(proc);
    notice();
    while (method == MTASK_PROC_FORKSERVER && state_of(pid) != 0) /* it is the server's child */
        testing_pause(1);
    ck_assert_int_eq(state_of(pid), 0);
    ck_assert(!has_zombies());
    end_wires(&pair);
}

static void check_releases(mtask_proc_method method) {
    static const notice_fn notices[] = {notice_by_start, notice_by_join_all};
    for (size_t i = 0; i < sizeof notices / sizeof notices[0]; i++) {
        check_release(method, notices[i], false);
        check_release(method, notices[i], true);
    }
    if (method != MTASK_PROC_FORKSERVER) { /* there it may take a moment until it is known */
        check_release(method, notice_by_enumerate, false);
        check_release(method, notice_by_enumerate, true);
    }
}

START_TEST(a_process_that_was_let_go_leaves_nothing) {
    mtask_proc_release(NULL);
    by_each_method(check_releases);
}
END_TEST

START_TEST(closing_leaves_no_descriptor_and_no_zombie) {
    int before;
    (void)take_proc(start_proc(return_arg, NULL));
    wait_once();
    before = count_fds();
    for (int i = 0; i < 10; i++) {
        mtask_proc *proc = start_proc(return_arg, NULL);
        if (HAS_PIDFD)
            (void)sentinel_of(proc);
        (void)end_proc(proc, MTASK_OK);
    }
    ck_assert_int_eq(count_fds(), before);
    ck_assert(!has_zombies());
}
END_TEST

static mtask_proc *parents_proc;

static void *use_parents_handle(void *arg) {
    mtask_buf result = {0};
    int number;
    IN_CHILD(mtask_proc_join(parents_proc, NULL, MTASK_FOREVER) == MTASK_INVALID);
    IN_CHILD(mtask_proc_result(parents_proc, &result) == MTASK_INVALID);
    IN_CHILD(mtask_proc_exitcode(parents_proc, &number) == MTASK_INVALID);
    IN_CHILD(mtask_proc_terminate(parents_proc) == MTASK_INVALID);
    IN_CHILD(mtask_proc_kill(parents_proc) == MTASK_INVALID);
    IN_CHILD(mtask_proc_signal(parents_proc, SIGUSR1) == MTASK_INVALID);
    IN_CHILD(mtask_proc_sentinel(parents_proc, &number) == MTASK_INVALID);
    IN_CHILD(!mtask_proc_is_alive(parents_proc));
    IN_CHILD(mtask_proc_join_all(MTASK_FOREVER) == MTASK_OK); /* it has none */
    mtask_proc_release(parents_proc);
    return arg;
}

static void check_parents_handle(mtask_proc_method method) {
    size_t count = 0;
    wires pair;
    pid_t pid;
    int status;
    open_wires(&pair);
    parents_proc = start_waiting(method, &pair, false);
    (void)take_proc(start_proc(use_parents_handle, NULL));
    pid = fork_child();
    if (pid == 0) {
        (void)use_parents_handle(NULL);
        _exit(0);
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_int_eq(status, 0);
    ck_assert_status(mtask_proc_enumerate(NULL, 0, &count), MTASK_OVERFLOW);
    ck_assert_uint_eq(count, 1);
    say_go(&pair);
    ck_assert_int_eq(hear(&pair), 'e');
    (void)end_proc(parents_proc, MTASK_OK);
    end_wires(&pair);
}

START_TEST(a_parents_handles_are_of_no_use_in_a_forked_child) {
    by_each_method(check_parents_handle);
}
END_TEST

START_TEST(what_cannot_be_started_is_refused) {
    static const mtask_proc_desc none, with_arg = {.fn = return_arg, .arg = &private_number};
    mtask_proc_desc desc = {.call = echo};
    mtask_proc *proc = NULL;
    int before = count_fds();
    ck_assert_status(mtask_proc_start(&proc, NULL, NULL), MTASK_INVALID);
    ck_assert_status(mtask_proc_start_ex(&proc, &none), MTASK_INVALID);
    desc = with_arg;
    desc.method = MTASK_PROC_SPAWN;
    ck_assert_status(mtask_proc_start_ex(&proc, &desc), MTASK_INVALID);
    desc.method = MTASK_PROC_FORKSERVER;
    ck_assert_status(mtask_proc_start_ex(&proc, &desc), MTASK_INVALID);
    desc.method = (mtask_proc_method)77;
    ck_assert_status(mtask_proc_start_ex(&proc, &desc), MTASK_INVALID);
    ck_assert_ptr_null(proc);
    ck_assert_int_eq(count_fds(), before);
    ck_assert_int_eq(waitpid(-1, NULL, WNOHANG), -1);
}
END_TEST

/* ---- what there is to know ---- */

static mtask_status tell_current(const void *in, size_t size, mtask_buf *out) {
    mtask_proc_info info = mtask_proc_current();
    (void)in;
    (void)size;
    return mtask_buf_append(out, &info, sizeof info);
}

/* What a process says of itself. */
static mtask_proc_info info_from(mtask_proc *proc) {
    mtask_buf result = {0};
    mtask_proc_info info;
    (void)join_proc(proc, MTASK_OK);
    ck_assert_status(mtask_proc_result(proc, &result), MTASK_OK);
    ck_assert_uint_eq(result.size, sizeof info);
    memcpy(&info, result.data, sizeof info);
    mtask_buf_free(&result);
    return info;
}

static void check_info(mtask_proc_info info, pid_t pid, const char *name, bool daemon) {
    ck_assert_int_eq(info.pid, pid);
    ck_assert_int_eq(info.parent, getpid());
    ck_assert(info.started);
    ck_assert(info.daemon == daemon);
    ck_assert_str_eq(info.name, name);
}

static void check_current(mtask_proc_method method) {
    mtask_proc_desc desc = {.call = tell_current, .method = method};
    char name[] = "A process with a name that is longer than others";
    mtask_proc *proc;
    desc.name = name;
    desc.daemon = true;
    proc = start_desc(&desc);
    name[31] = '\0';
    ck_assert_str_eq(mtask_proc_name(proc), name);
    check_info(info_from(proc), mtask_proc_pid(proc), name, true);
    ck_assert_status(mtask_proc_close(proc), MTASK_OK);
    desc.name = "short";
    desc.daemon = false;
    proc = start_desc(&desc);
    check_info(info_from(proc), mtask_proc_pid(proc), "short", false);
    ck_assert_status(mtask_proc_close(proc), MTASK_OK);
}

START_TEST(a_process_knows_its_name_and_parent) {
    by_each_method(check_current);
}
END_TEST

START_TEST(the_main_process_knows_itself) {
    mtask_proc_info info = mtask_proc_current();
    int fd;
    pid_t pid;
    ck_assert_int_eq(info.pid, getpid());
    ck_assert_int_eq(info.parent, getppid());
    ck_assert(!info.started && !info.daemon);
    ck_assert_str_eq(info.name, "MainProcess");
    ck_assert_status(mtask_proc_parent_sentinel(&fd), MTASK_NOT_FOUND);
    pid = fork_child();
    if (pid == 0) {
        IN_CHILD(mtask_proc_current().pid == getpid());
        IN_CHILD(mtask_proc_current().parent == getppid());
        _exit(0);
    }
    ck_assert_int_eq(waitpid(pid, &fd, 0), pid);
    ck_assert_int_eq(fd, 0);
}
END_TEST

START_TEST(processes_are_numbered_unless_they_have_a_name) {
    for (int i = 1; i <= 3; i++) {
        mtask_proc *proc =
            start_call(i == 2 ? MTASK_PROC_SPAWN : MTASK_PROC_FORK, tell_current, NULL, 0);
        char name[MTASK_NAME_SIZE];
        snprintf(name, sizeof name, "Process-%d", i);
        ck_assert_str_eq(mtask_proc_name(proc), name);
        check_info(info_from(proc), mtask_proc_pid(proc), name, false);
        ck_assert_status(mtask_proc_close(proc), MTASK_OK);
    }
}
END_TEST

static mtask_proc_info find_info(const mtask_proc_info *infos, size_t count, pid_t pid) {
    static const mtask_proc_info none;
    for (size_t i = 0; i < count; i++)
        if (infos[i].pid == pid)
            return infos[i];
    ck_abort_msg("a process is missing");
    return none;
}

START_TEST(processes_that_run_are_enumerated) {
    mtask_proc_info infos[8];
    mtask_proc *procs[3];
    wires pair;
    pid_t pids[3];
    size_t count = 99;
    open_wires(&pair);
    ck_assert_status(mtask_proc_enumerate(infos, 8, &count), MTASK_OK);
    ck_assert_uint_eq(count, 0);
    for (int i = 0; i < 3; i++) {
        procs[i] = start_waiting((mtask_proc_method)(MTASK_PROC_FORK + i), &pair, i == 1);
        pids[i] = mtask_proc_pid(procs[i]);
    }
    ck_assert_status(mtask_proc_enumerate(infos, 2, &count), MTASK_OVERFLOW);
    ck_assert_uint_eq(count, 3);
    ck_assert_status(mtask_proc_enumerate(infos, 8, &count), MTASK_OK);
    ck_assert_uint_eq(count, 3);
    for (int i = 0; i < 3; i++) {
        char name[MTASK_NAME_SIZE];
        snprintf(name, sizeof name, "Process-%d", i + 1);
        check_info(find_info(infos, count, pids[i]), pids[i], name, i == 1);
    }
    ck_assert_status(mtask_proc_kill(procs[1]), MTASK_OK);
    (void)end_proc(procs[1], MTASK_FAILED);
    mtask_proc_release(procs[0]); /* it runs */
    ck_assert_status(mtask_proc_enumerate(infos, 8, &count), MTASK_OK);
    ck_assert_uint_eq(count, 2);
    (void)find_info(infos, count, pids[0]);
    (void)find_info(infos, count, pids[2]);
    say_go(&pair);
    say_go(&pair);
    (void)end_proc(procs[2], MTASK_OK);
    ck_assert_status(mtask_proc_join_all(MTASK_FOREVER), MTASK_OK);
    ck_assert_status(mtask_proc_enumerate(infos, 8, &count), MTASK_OK);
    ck_assert_uint_eq(count, 0);
    end_wires(&pair);
}
END_TEST

/* ---- join_all ---- */

static void *ignore_sigterm(void *arg) {
    const wires *pair = (const wires *)arg;
    signal(SIGTERM, SIG_IGN);
    tell(pair, 'i');
    for (;;)
        pause();
    return arg;
}

static void check_join_all(mtask_proc_method method) {
    mtask_proc *waiting, *daemon;
    wires pair, daemons;
    open_wires(&pair);
    open_wires(&daemons);
    waiting = start_waiting(method, &pair, false);
    daemon = start_waiting(method, &daemons, true);
    mtask_proc_release(start_waiting(method, &pair, false));
    ck_assert_status(mtask_proc_join_all(MTASK_MS(2)), MTASK_TIMEOUT);
    ck_assert(mtask_proc_is_alive(daemon));
    say_go(&pair);
    ck_assert_int_eq(hear(&pair), 'e');
    ck_assert_status(mtask_proc_join_all(MTASK_MS(2)), MTASK_TIMEOUT);
    ck_assert(mtask_proc_is_alive(daemon));
    say_go(&pair);
    ck_assert_status(mtask_proc_join_all(MTASK_FOREVER), MTASK_OK);
    ck_assert_int_eq(hear(&pair), 'e');
    ck_assert(!mtask_proc_is_alive(waiting) && !mtask_proc_is_alive(daemon));
    ck_assert_int_eq(exitcode_of(waiting), 0);
    ck_assert_int_eq(exitcode_of(daemon), -SIGTERM);
    (void)end_proc(waiting, MTASK_OK);
    ck_assert_status(end_proc(daemon, MTASK_FAILED).status, MTASK_CRASHED);
    end_wires(&pair);
    end_wires(&daemons);
}

START_TEST(join_all_waits_for_all_and_ends_the_daemons) {
    ck_assert_status(mtask_proc_join_all(MTASK_NOWAIT), MTASK_OK);
    ck_assert_status(mtask_proc_join_all(-1), MTASK_INVALID);
    by_each_method(check_join_all);
    ck_assert(!has_zombies());
}
END_TEST

START_TEST(join_all_kills_a_daemon_that_ignores_sigterm) {
    mtask_proc_desc desc = {.fn = ignore_sigterm, .daemon = true};
    int64_t start = mtask_now();
    mtask_proc *proc;
    wires pair;
    open_wires(&pair);
    desc.arg = &pair;
    proc = start_desc(&desc);
    ck_assert_int_eq(hear(&pair), 'i');
    ck_assert_status(mtask_proc_join_all(MTASK_SEC(60)), MTASK_OK);
    ck_assert_int_ge(mtask_now() - start, MTASK_SEC(1));
    ck_assert_int_eq(exitcode_of(proc), -SIGKILL);
    ck_assert_status(mtask_proc_close(proc), MTASK_OK);
    end_wires(&pair);
}
END_TEST

static void *join_all_children(void *arg) {
    join_call *join = (join_call *)arg;
    join->status = mtask_proc_join_all(join->timeout);
    return arg;
}

static void *cancel_join_all(void *arg) {
    join_call *join = (join_call *)arg;
    mtask_future *future = go(join_all_children, join);
    for (int i = 0; i < 3; i++)
        ck_assert_status(mtask_sleep(MTASK_US(300)), MTASK_OK);
    ck_assert(!mtask_future_done(future));
    ck_assert_status(mtask_future_cancel(future), MTASK_OK);
    (void)take(future);
    ck_assert_status(join->status, MTASK_CANCELED);
    say_go(join->pair);
    (void)join_all_children(join);
    ck_assert_status(join->status, MTASK_OK);
    return arg;
}

START_TEST(a_task_may_join_all_and_be_cancelled) {
    wires pair;
    join_call join = {.pair = &pair, .timeout = MTASK_FOREVER};
    open_wires(&pair);
    join.proc = start_waiting(MTASK_PROC_FORK, &pair, false);
    (void)in_loop(cancel_join_all, &join);
    (void)end_proc(join.proc, MTASK_OK);
    end_wires(&pair);
}
END_TEST

/* ---- what a process does before it ends ---- */

static void *sleep_and_tell(void *arg) {
    testing_pause(15);
    tell((const wires *)arg, 't');
    return NULL;
}

static wires in_process; /* in a process: those that it was told */

static mtask_status leave_thread(const void *in, size_t size, mtask_buf *out) {
    mtask_thread_desc desc = {.fn = sleep_and_tell, .arg = &in_process};
    (void)out;
    IN_CHILD(size == sizeof in_process);
    memcpy(&in_process, in, size);
    IN_CHILD(mtask_thread_start_ex(NULL, &desc) == MTASK_OK);
    return MTASK_OK;
}

static void *sleep_for_ever(void *arg) {
    for (;;)
        pause();
    return arg;
}

static mtask_status leave_daemon_thread(const void *in, size_t size, mtask_buf *out) {
    mtask_thread_desc desc = {.fn = sleep_for_ever, .daemon = true};
    (void)in;
    (void)size;
    (void)out;
    IN_CHILD(mtask_thread_start_ex(NULL, &desc) == MTASK_OK);
    return MTASK_OK;
}

static void check_threads_left(mtask_proc_method method) {
    mtask_proc *proc;
    wires pair;
    open_wires(&pair);
    proc = start_wired(method, leave_thread, &pair, false);
    (void)end_proc(proc, MTASK_OK);
    hear_others(&pair);
    ck_assert_int_eq(hear(&pair), 't');
    ck_assert_int_eq(hear(&pair), 0);
    end_wires(&pair);
    (void)end_proc(start_call(method, leave_daemon_thread, NULL, 0), MTASK_OK);
}

START_TEST(a_process_waits_for_its_threads_that_are_no_daemons) {
    by_each_method(check_threads_left);
}
END_TEST

static mtask_status leave_processes(const void *in, size_t size, mtask_buf *out) {
    mtask_proc_desc desc = {.fn = sleep_for_ever, .daemon = true};
    mtask_proc *proc;
    (void)out;
    IN_CHILD(size == sizeof in_process);
    memcpy(&in_process, in, size);
    IN_CHILD(mtask_proc_start(&proc, sleep_and_tell, &in_process) == MTASK_OK);
    IN_CHILD(mtask_proc_start_ex(&proc, &desc) == MTASK_OK);
    return MTASK_OK;
}

static void check_processes_left(mtask_proc_method method) {
    mtask_proc *proc;
    wires pair;
    open_wires(&pair);
    proc = start_wired(method, leave_processes, &pair, false);
    hear_others(&pair);
    (void)end_proc(proc, MTASK_OK);
    ck_assert_int_eq(polled(pair.tell[0], POLLIN) & POLLIN, POLLIN);
    ck_assert_int_eq(hear(&pair), 't');
    ck_assert_int_eq(hear(&pair), 0); /* the daemon has ended, too */
    end_wires(&pair);
}

START_TEST(a_process_waits_for_its_processes_that_are_no_daemons) {
    by_each_method(check_processes_left);
}
END_TEST

static mtask_status print_something(const void *in, size_t size, mtask_buf *out) {
    (void)in;
    (void)size;
    (void)out;
    setvbuf(stdout, NULL, _IOFBF, BUFSIZ);
    setvbuf(stderr, NULL, _IOFBF, BUFSIZ);
    printf("child ");
    fprintf(stderr, "error ");
    return MTASK_OK;
}

static mtask_status print_and_fail(const void *in, size_t size, mtask_buf *out) {
    (void)print_something(in, size, out);
    return MTASK_EMPTY;
}

/* What has been written to a file. */
static void check_written(int fd, const char *text) {
    char got[256] = "";
    ck_assert_int_ge(pread(fd, got, sizeof got - 1, 0), 0);
    ck_assert_str_eq(got, text);
}

static void check_output(mtask_proc_method method) {
    int out = open_file(0), err = open_file(0), old_out = dup(1), old_err = dup(2);
    fflush(stdout);
    fflush(stderr);
    ck_assert(dup2(out, 1) == 1 && dup2(err, 2) == 2);
    ck_assert_status(mtask_forkserver_stop(), MTASK_OK); /* the next one has these */
    for (int i = 0; i < 2; i++) {
        printf("parent ");
        fprintf(stderr, "warning ");
        (void)end_proc(start_call(method, i == 0 ? print_something : print_and_fail, NULL, 0),
                       i == 0 ? MTASK_OK : MTASK_FAILED);
    }
    fflush(stdout);
    fflush(stderr);
    ck_assert(dup2(old_out, 1) == 1 && dup2(old_err, 2) == 2);
    check_written(out, "parent child parent child ");
    check_written(err, "warning error warning error ");
    close(out);
    close(err);
    close(old_out);
    close(old_err);
}

START_TEST(output_is_written_once_and_in_order) {
    setvbuf(stdout, NULL, _IOFBF, BUFSIZ);
    setvbuf(stderr, NULL, _IOFBF, BUFSIZ);
    by_each_method(check_output);
}
END_TEST

typedef struct numbers {
    int count;
    pid_t pids[16];
} numbers;

/* A tree of processes: two at each of three levels, each of which leaves its number. */
static void *start_tree(void *arg) {
    numbers *tree = (numbers *)arg;
    static int level;
    mtask_proc *procs[2];
    tree->pids[__atomic_fetch_add(&tree->count, 1, __ATOMIC_SEQ_CST)] = getpid();
    if (level++ == 3)
        return (void *)1;
    for (int i = 0; i < 2; i++)
        IN_CHILD(mtask_proc_start(&procs[i], start_tree, arg) == MTASK_OK);
    for (int i = 0; i < 2; i++) {
        mtask_outcome outcome;
        IN_CHILD(mtask_proc_join(procs[i], &outcome, MTASK_FOREVER) == MTASK_OK);
        IN_CHILD(outcome.value == (void *)1);
        IN_CHILD(mtask_proc_close(procs[i]) == MTASK_OK);
    }
    return (void *)1;
}

START_TEST(processes_start_processes_that_start_processes) {
    numbers *tree = (numbers *)share_memory(sizeof *tree);
    ck_assert_int_eq(take_proc(start_proc(start_tree, tree)), 1);
    ck_assert_int_eq(tree->count, 15);
    for (int i = 0; i < tree->count; i++)
        for (int j = 0; j < i; j++)
            ck_assert_int_ne(tree->pids[i], tree->pids[j]);
}
END_TEST

static mtask_status call_by_method(const void *in, size_t size, mtask_buf *out) {
    const mtask_proc_method *methods = (const mtask_proc_method *)in;
    mtask_proc_desc desc = {.call = call_by_method};
    mtask_proc *proc;
    if (size == 0)
        return mtask_buf_printf(out, "end");
    desc.method = methods[0];
    desc.in = methods + 1;
    desc.in_size = size - sizeof methods[0];
    IN_CHILD(mtask_proc_start_ex(&proc, &desc) == MTASK_OK);
    IN_CHILD(mtask_proc_join(proc, NULL, MTASK_FOREVER) == MTASK_OK);
    IN_CHILD(mtask_proc_result(proc, out) == MTASK_OK);
    IN_CHILD(mtask_proc_close(proc) == MTASK_OK);
    return mtask_buf_printf(out, " %d", (int)methods[0]);
}

START_TEST(a_process_of_any_method_starts_processes_of_any_method) {
    static const int order[10] = {1, 1, 2, 2, 3, 3, 1, 3, 2, 1}; /* each after each other */
    mtask_proc_method methods[10];
    mtask_buf result = {0};
    mtask_proc *proc;
    for (int i = 0; i < 10; i++)
        methods[i] = (mtask_proc_method)order[i];
    proc = start_call(MTASK_PROC_FORK, call_by_method, methods, sizeof methods);
    (void)join_proc(proc, MTASK_OK);
    ck_assert_status(mtask_proc_result(proc, &result), MTASK_OK);
    check_text(&result, "end 1 2 3 1 3 3 2 2 1 1");
    mtask_buf_free(&result);
    ck_assert_status(mtask_proc_close(proc), MTASK_OK);
}
END_TEST

/* ---- daemons, and the end of parents ----

   The test starts a process, the middle one, which starts another, the last one, and ends: of itself
   or killed. The last one holds the only open end of a pipe that the test reads. */

typedef enum middle_end {
    ENDS_BY_RETURN,
    ENDS_BY_EXIT,
    ENDS_AT_ONCE,
    ENDS_BY_ABORT,
    IS_KILLED
} middle_end;

typedef struct family {
    wires middle;
    wires last;
    mtask_proc_method method; /* of the last one */
    middle_end end;
    mtask_bytes_fn call; /* what the last one does */
    bool daemon;
    bool by_thread; /* it is started by a thread, which ends at once */
} family;

static family open_family(mtask_proc_method method, mtask_bytes_fn call, bool daemon) {
    family one;
    memset(&one, 0, sizeof one);
    open_wires(&one.middle);
    open_wires(&one.last);
    one.method = method;
    one.call = call;
    one.daemon = daemon;
    one.end = IS_KILLED;
    return one;
}

static void end_family(const family *one) {
    end_wires(&one->middle);
    end_wires(&one->last);
}

static void *start_last(void *arg) {
    const family *one = (const family *)arg;
    (void)start_wired(one->method, one->call, &one->last, one->daemon);
    return NULL;
}

static void *be_in_the_middle(void *arg) {
    family *one = (family *)arg;
    if (one->by_thread)
        (void)in_thread(start_last, one);
    else
        (void)start_last(one);
    hear_others(&one->last);
    tell(&one->middle, 's');
    await_go(&one->middle);
    switch (one->end) {
    case ENDS_BY_EXIT:
        exit(3);
    case ENDS_AT_ONCE:
        _exit(4);
    case ENDS_BY_ABORT:
        abort();
    default:
        return NULL;
    }
}

/* Starts the middle one, which starts the last one; returns when that runs. */
static mtask_proc *start_family(family *one) {
    mtask_proc *middle = start_proc(be_in_the_middle, one);
    hear_others(&one->last);
    ck_assert_int_eq(hear(&one->middle), 's');
    ck_assert_int_eq(hear(&one->last), 'b');
    return middle;
}

static void end_middle(const family *one, mtask_proc *middle) {
    if (one->end == IS_KILLED)
        ck_assert_status(mtask_proc_kill(middle), MTASK_OK);
    else
        say_go(&one->middle);
    (void)end_proc(middle, one->end == ENDS_BY_RETURN ? MTASK_OK : MTASK_FAILED);
}

static void check_daemon(mtask_proc_method method) {
    for (int end = ENDS_BY_RETURN; end <= IS_KILLED; end++) {
        family one = open_family(method, wait_for_go, true);
        mtask_proc *middle;
        one.end = (middle_end)end;
        middle = start_family(&one);
        ck_assert_int_eq(polled(one.last.tell[0], POLLIN), 0);
        end_middle(&one, middle);
        ck_assert_int_eq(hear(&one.last), 0);
        end_family(&one);
    }
}

START_TEST(daemons_end_with_their_parent_however_it_ends) {
    by_each_method(check_daemon);
}
END_TEST

/* Ends before what it has started has begun to look. */
static void *start_last_and_end(void *arg) {
    (void)start_last(arg);
    _exit(0);
}

static void check_late_daemon(mtask_proc_method method) {
    for (int i = 0; i < 5; i++) {
        family one = open_family(method, wait_for_go, true);
        (void)take_proc(start_proc(start_last_and_end, &one));
        hear_others(&one.last);
        while (hear(&one.last) != 0) /* it may have begun */
            continue;
        end_family(&one);
    }
}

START_TEST(daemons_of_a_parent_that_has_ended_before_end_too) {
    by_each_method(check_late_daemon);
}
END_TEST

static void check_outliving(mtask_proc_method method) {
    for (int end = ENDS_BY_EXIT; end <= IS_KILLED; end++) {
        family one = open_family(method, wait_for_go, false);
        mtask_proc *middle;
        one.end = (middle_end)end;
        middle = start_family(&one);
        end_middle(&one, middle);
        testing_pause(3);
        ck_assert_int_eq(polled(one.last.tell[0], POLLIN), 0);
        say_go(&one.last);
        ck_assert_int_eq(hear(&one.last), 'e');
        ck_assert_int_eq(hear(&one.last), 0);
        end_family(&one);
    }
}

START_TEST(others_go_on_when_their_parent_has_ended) {
    by_each_method(check_outliving);
}
END_TEST

/* As wait_for_go, twice. */
static mtask_status wait_for_two(const void *in, size_t size, mtask_buf *out) {
    mtask_status status = wait_for_go(in, size, out);
    return status != MTASK_OK ? status : wait_for_go(in, size, out);
}

static void check_forking_thread(mtask_proc_method method) {
    family one = open_family(method, wait_for_two, true);
    mtask_proc *middle;
    one.by_thread = true;
    middle = start_family(&one); /* the thread has ended */
    testing_pause(5);
    say_go(&one.last); /* it is still there */
    ck_assert_int_eq(hear(&one.last), 'e');
    ck_assert_int_eq(hear(&one.last), 'b');
    end_middle(&one, middle);
    ck_assert_int_eq(hear(&one.last), 0);
    end_family(&one);
}

START_TEST(a_daemon_depends_on_the_process_and_not_on_the_forking_thread) {
    by_each_method(check_forking_thread);
}
END_TEST

/* As be_in_the_middle; two more processes, which live on, inherit what it has. */
static void *have_other_children(void *arg) {
    family *one = (family *)arg;
    pid_t pid;
    (void)start_last(one);
    hear_others(&one->last);
    (void)start_wired(MTASK_PROC_FORK, wait_for_go, &one->middle, false);
    pid = fork_child();
    if (pid == 0)
        _exit(wait_for_go(&one->middle, sizeof one->middle, NULL) != MTASK_OK);
    for (;;)
        pause();
    return arg;
}

static void check_siblings(mtask_proc_method method) {
    family one = open_family(method, wait_for_go, true);
    mtask_proc *middle = start_proc(have_other_children, &one);
    hear_others(&one.last);
    hear_others(&one.middle);
    for (int i = 0; i < 2; i++)
        ck_assert_int_eq(hear(&one.middle), 'b');
    ck_assert_int_eq(hear(&one.last), 'b');
    end_middle(&one, middle);
    ck_assert_int_eq(hear(&one.last), 0);
    ck_assert_int_eq(polled(one.middle.tell[0], POLLIN), 0); /* they are still there */
    for (int i = 0; i < 2; i++) {
        say_go(&one.middle);
        ck_assert_int_eq(hear(&one.middle), 'e');
    }
    ck_assert_int_eq(hear(&one.middle), 0);
    end_family(&one);
}

START_TEST(other_children_of_a_dead_parent_do_not_keep_its_daemons_alive) {
    by_each_method(check_siblings);
}
END_TEST

static mtask_status await_parents_end(const void *in, size_t size, mtask_buf *out) {
    wires pair;
    int fd = -1;
    (void)out;
    IN_CHILD(size == sizeof pair);
    memcpy(&pair, in, size);
    IN_CHILD(mtask_proc_parent_sentinel(&fd) == MTASK_OK);
    IN_CHILD(mtask_io_wait(fd, MTASK_IO_READ, MTASK_MS(1)) == MTASK_TIMEOUT);
    tell(&pair, 'b');
    IN_CHILD(mtask_io_wait(fd, MTASK_IO_READ, MTASK_FOREVER) == MTASK_OK);
    IN_CHILD(mtask_proc_parent_sentinel(&fd) == MTASK_OK);
    IN_CHILD((polled(fd, POLLIN) & (POLLIN | POLLHUP)) != 0);
    tell(&pair, 'e');
    return MTASK_OK;
}

static void check_parent_sentinel(mtask_proc_method method) {
    for (int end = ENDS_BY_EXIT; end <= IS_KILLED; end += IS_KILLED - ENDS_BY_EXIT) {
        family one = open_family(method, await_parents_end, false);
        mtask_proc *middle;
        one.end = (middle_end)end;
        middle = start_family(&one);
        testing_pause(2);
        ck_assert_int_eq(polled(one.last.tell[0], POLLIN), 0);
        end_middle(&one, middle);
        ck_assert_int_eq(hear(&one.last), 'e');
        ck_assert_int_eq(hear(&one.last), 0);
        end_family(&one);
    }
}

START_TEST(a_process_can_wait_for_the_end_of_its_parent) {
    by_each_method(check_parent_sentinel);
}
END_TEST

/* ---- methods ---- */

static mtask_status tell_private_number(const void *in, size_t size, mtask_buf *out) {
    (void)in;
    (void)size;
    return mtask_buf_printf(out, "%ld", private_number);
}

START_TEST(the_default_method_can_be_set) {
    static const mtask_proc_method methods[] = {MTASK_PROC_SPAWN, MTASK_PROC_FORKSERVER,
                                                MTASK_PROC_FORK};
    ck_assert_int_eq(mtask_proc_get_method(), MTASK_PROC_FORK);
    ck_assert_status(mtask_proc_set_method(MTASK_PROC_DEFAULT), MTASK_INVALID);
    ck_assert_status(mtask_proc_set_method((mtask_proc_method)4), MTASK_INVALID);
    ck_assert_int_eq(mtask_proc_get_method(), MTASK_PROC_FORK);
    private_number = 8; /* is seen only by forking */
    for (int i = 0; i < 3; i++) {
        mtask_buf result = {0};
        mtask_proc *proc;
        ck_assert_status(mtask_proc_set_method(methods[i]), MTASK_OK);
        ck_assert_int_eq(mtask_proc_get_method(), (int)methods[i]);
        proc = start_call(MTASK_PROC_DEFAULT, tell_private_number, NULL, 0);
        (void)join_proc(proc, MTASK_OK);
        ck_assert_status(mtask_proc_result(proc, &result), MTASK_OK);
        check_text(&result, i == 2 ? "8" : "1");
        mtask_buf_free(&result);
        ck_assert_status(mtask_proc_close(proc), MTASK_OK);
        ck_assert_status(mtask_proc_start(&proc, return_arg, &proc),
                         i == 2 ? MTASK_OK : MTASK_INVALID);
        if (i == 2)
            (void)end_proc(proc, MTASK_OK);
    }
}
END_TEST

static void *return_seven(void *arg) {
    return arg == NULL ? (void *)7 : NULL;
}

static void *fail_with_seven(void *arg) {
    (void)arg;
    return mtask_fail(MTASK_FULL, "number %d", 7);
}

static void check_without_arg(mtask_proc_method method) {
    mtask_proc_desc desc = {.fn = return_seven, .method = method};
    mtask_outcome outcome;
    ck_assert_int_eq(take_proc(start_desc(&desc)), 7);
    desc.fn = fail_with_seven;
    outcome = end_proc(start_desc(&desc), MTASK_FAILED);
    ck_assert_status(outcome.status, MTASK_FULL);
    ck_assert_str_eq(outcome.text, "number 7");
}

START_TEST(a_function_without_an_argument_runs_by_any_method) {
    by_each_method(check_without_arg);
}
END_TEST

/* The address of a page in which there is no function, as one. */
static mtask_bytes_fn no_function(void) {
    void *page = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    mtask_bytes_fn call;
    ck_assert(page != MAP_FAILED);
    memcpy(&call, &page, sizeof call);
    return call;
}

START_TEST(a_function_that_is_in_no_module_is_not_found) {
    mtask_proc_desc desc = {.call = no_function()};
    mtask_proc *proc = NULL;
    desc.method = MTASK_PROC_SPAWN;
    ck_assert_status(mtask_proc_start_ex(&proc, &desc), MTASK_NOT_FOUND);
    desc.method = MTASK_PROC_FORKSERVER;
    ck_assert_status(mtask_proc_start_ex(&proc, &desc), MTASK_NOT_FOUND);
    ck_assert_ptr_null(proc);
    ck_assert(!has_zombies());
}
END_TEST

/* A function that takes and returns a pointer, of a library. */
static mtask_fn library_function(const char *library, const char *name) {
    void *handle = dlopen(library, RTLD_NOW), *symbol;
    mtask_fn fn;
    ck_assert_ptr_nonnull(handle);
    symbol = dlsym(handle, name);
    ck_assert_ptr_nonnull(symbol);
    memcpy(&fn, &symbol, sizeof fn);
    return fn;
}

static void check_library_function(mtask_proc_method method) {
    mtask_proc_desc desc = {.method = method};
    desc.fn = library_function("libc.so.6", "__xpg_basename"); /* of NULL: "." */
    ck_assert_ptr_nonnull(end_proc(start_desc(&desc), MTASK_OK).value);
}

START_TEST(a_function_of_a_library_is_found) {
    by_each_method(check_library_function);
}
END_TEST

START_TEST(a_function_of_a_library_that_only_the_parent_has_is_not_found) {
    mtask_proc_desc desc = {.method = MTASK_PROC_SPAWN};
    mtask_outcome outcome;
    desc.fn = library_function("libBrokenLocale.so.1", "__ctype_get_mb_cur_max");
    outcome = end_proc(start_desc(&desc), MTASK_FAILED);
    ck_assert_status(outcome.status, MTASK_NOT_FOUND);
    ck_assert_int_ne(outcome.text[0], '\0');
}
END_TEST

/* Runs before main, and instead of it where the test below has started this program. */
__attribute__((constructor)) static void be_without_init(void) {
    mtask_proc_desc desc = {.call = echo, .method = MTASK_PROC_SPAWN};
    mtask_proc *proc = NULL;
    if (getenv("MTASK_TEST_WITHOUT_INIT") == NULL)
        return;
    IN_CHILD(mtask_proc_start_ex(&proc, &desc) == MTASK_UNSUPPORTED);
    desc.method = MTASK_PROC_FORKSERVER;
    IN_CHILD(mtask_proc_start_ex(&proc, &desc) == MTASK_UNSUPPORTED);
    IN_CHILD(mtask_forkserver_start(NULL) == MTASK_UNSUPPORTED);
    IN_CHILD(mtask_forkserver_pid() == 0);
    desc.method = MTASK_PROC_FORK;
    IN_CHILD(mtask_proc_start_ex(&proc, &desc) == MTASK_OK);
    IN_CHILD(mtask_proc_join(proc, NULL, MTASK_FOREVER) == MTASK_OK);
    IN_CHILD(mtask_proc_close(proc) == MTASK_OK);
    _exit(7);
}

static void *run_without_init(void *arg) {
    IN_CHILD(setenv("MTASK_TEST_WITHOUT_INIT", "1", 1) == 0);
    execl("/proc/self/exe", "test", (char *)NULL);
    return arg;
}

START_TEST(starting_the_program_again_needs_mtask_proc_init) {
    mtask_proc *proc = start_proc(run_without_init, NULL);
    (void)join_proc(proc, MTASK_FAILED);
    ck_assert_int_eq(exitcode_of(proc), 7);
    ck_assert_status(mtask_proc_close(proc), MTASK_OK);
}
END_TEST

static mtask_status tell_nice(const void *in, size_t size, mtask_buf *out) {
    (void)in;
    (void)size;
    return mtask_buf_printf(out, "%d", getpriority(PRIO_PROCESS, 0));
}

static void check_nice(mtask_proc_method method) {
    mtask_proc_desc desc = {.call = tell_nice, .method = method};
    int here = getpriority(PRIO_PROCESS, 0);
    for (int more = 0; more <= 4; more += 4) {
        mtask_buf result = {0};
        mtask_proc *proc;
        char text[16];
        desc.nice = more;
        proc = start_desc(&desc);
        (void)join_proc(proc, MTASK_OK);
        ck_assert_status(mtask_proc_result(proc, &result), MTASK_OK);
        snprintf(text, sizeof text, "%d", here + more > 19 ? 19 : here + more);
        check_text(&result, text);
        mtask_buf_free(&result);
        ck_assert_status(mtask_proc_close(proc), MTASK_OK);
    }
    ck_assert_int_eq(getpriority(PRIO_PROCESS, 0), here);
}

START_TEST(a_process_may_be_nicer) {
    by_each_method(check_nice);
}
END_TEST

static mtask_status tell_cpus(const void *in, size_t size, mtask_buf *out) {
    cpu_set_t cpus;
    (void)in;
    (void)size;
    IN_CHILD(sched_getaffinity(0, sizeof cpus, &cpus) == 0);
    return mtask_buf_append(out, &cpus, sizeof cpus);
}

static void check_cpus_of(const mtask_proc_desc *desc, const cpu_set_t *expected) {
    mtask_buf result = {0};
    mtask_proc *proc = start_desc(desc);
    (void)join_proc(proc, MTASK_OK);
    ck_assert_status(mtask_proc_result(proc, &result), MTASK_OK);
    ck_assert(CPU_EQUAL((const cpu_set_t *)(const void *)result.data, expected));
    mtask_buf_free(&result);
    ck_assert_status(mtask_proc_close(proc), MTASK_OK);
}

static void check_cpus(mtask_proc_method method) {
    mtask_proc_desc desc = {.call = tell_cpus, .method = method};
    unsigned last = 0;
    cpu_set_t all, one;
    ck_assert_int_eq(sched_getaffinity(0, sizeof all, &all), 0);
    for (unsigned cpu = 0; cpu < CPU_SETSIZE; cpu++)
        last = CPU_ISSET(cpu, &all) ? cpu : last;
    CPU_ZERO(&one);
    CPU_SET(last, &one);
    check_cpus_of(&desc, &all);
    desc.cpus = &last;
    desc.cpu_count = 1;
    if (CAN_CHOOSE_CPUS) {
        check_cpus_of(&desc, &one);
    } else {
        mtask_proc *proc = NULL;
        ck_assert_status(mtask_proc_start_ex(&proc, &desc), MTASK_UNSUPPORTED);
    }
    desc.cpus = NULL;
    desc.cpu_count = 0;
    ck_assert_int_eq(sched_setaffinity(0, sizeof one, &one), 0);
    check_cpus_of(&desc, method == MTASK_PROC_FORKSERVER ? &all : &one); /* the maker's */
    ck_assert_int_eq(sched_setaffinity(0, sizeof all, &all), 0);
    check_cpus_of(&desc, &all);
}

START_TEST(a_process_uses_the_cpus_that_it_may) {
    by_each_method(check_cpus);
}
END_TEST

/* ---- what is inherited ---- */

/* A descriptor and the file that it stands for. */
typedef struct open_fd {
    int fd;
    dev_t dev;
    ino_t ino;
} open_fd;

static bool look_at_fd(int fd, open_fd *one) {
    struct stat file;
    memset(one, 0, sizeof *one);
    one->fd = fd;
    if (fstat(fd, &file) != 0)
        return false;
    one->dev = file.st_dev;
    one->ino = file.st_ino;
    return true;
}

/* All descriptors that a process has, of the first 1024. */
static mtask_status tell_fds(const void *in, size_t size, mtask_buf *out) {
    (void)in;
    (void)size;
    for (int fd = 0; fd < 1024; fd++) {
        open_fd one;
        if (look_at_fd(fd, &one) && mtask_buf_append(out, &one, sizeof one) != MTASK_OK)
            return MTASK_NOMEM;
    }
    return MTASK_OK;
}

typedef struct fd_list {
    size_t count;
    open_fd fds[1024];
} fd_list;

/* Which descriptors a process has. */
static void list_fds(const mtask_proc_desc *desc, fd_list *list) {
    mtask_buf result = {0};
    mtask_proc *proc = start_desc(desc);
    (void)join_proc(proc, MTASK_OK);
    ck_assert_status(mtask_proc_result(proc, &result), MTASK_OK);
    list->count = result.size / sizeof(open_fd);
    memcpy(list->fds, result.data, result.size);
    mtask_buf_free(&result);
    ck_assert_status(mtask_proc_close(proc), MTASK_OK);
}

static bool list_has(const fd_list *list, const open_fd *one, bool same_number) {
    for (size_t i = 0; i < list->count; i++)
        if (list->fds[i].dev == one->dev && list->fds[i].ino == one->ino &&
            (!same_number || list->fds[i].fd == one->fd))
            return true;
    return false;
}

/* Opens `count` descriptors, each for a file of its own, inherited by who is not careful, under the
   lowest numbers that are free. */
static void open_many(int *fds, size_t count) {
    for (size_t i = 0; i < count; i++) {
        int ends[2], fd = 3;
        plain_pipe(ends);
        while (fcntl(fd, F_GETFD) >= 0 && fd < ends[0])
            fd++;
        fds[i] = fd == ends[0] ? fd : dup2(ends[0], fd);
        testing_check(fds[i] >= 3);
        if (fd != ends[0])
            close(ends[0]);
        close(ends[1]);
    }
}

static void close_many(const int *fds, size_t count) {
    for (size_t i = 0; i < count; i++)
        ck_assert_int_eq(close(fds[i]), 0);
}

/* Of 20 descriptors it inherits those that are named, every third. */
static void check_inherited(mtask_proc_method method) {
    static fd_list list;
    mtask_proc_desc desc = {.call = tell_fds, .method = method};
    size_t bare;
    int fds[20], named[7];
    open_many(fds, 20);
    ck_assert_int_eq(dup2(fds[1], 700), 700); /* also beyond all that mtask has */
    list_fds(&desc, &list);
    bare = list.count;
    for (int i = 0; i < 7; i++)
        named[i] = fds[3 * i];
    desc.fds = named;
    desc.fd_count = 7;
    for (int round = 0; round < 2; round++) {
        list_fds(&desc, &list);
        ck_assert_uint_eq(list.count, bare + 7);
        for (int i = 0; i < 20; i++) {
            open_fd one;
            ck_assert(look_at_fd(fds[i], &one));
            ck_assert(list_has(&list, &one, i % 3 == 0) == (i % 3 == 0));
        }
    }
    ck_assert_uint_le(bare, 7); /* 0, 1, 2, and mtask's own */
    close_many(fds, 20);
    close(700);
}

START_TEST(a_process_made_anew_inherits_only_what_is_named) {
    check_inherited(MTASK_PROC_SPAWN);
    check_inherited(MTASK_PROC_FORKSERVER);
}
END_TEST

START_TEST(a_forked_process_inherits_all) {
    static fd_list list;
    mtask_proc_desc desc = {.call = tell_fds};
    int fds[20];
    open_many(fds, 20);
    list_fds(&desc, &list);
    for (int i = 0; i < 20; i++) {
        open_fd one;
        ck_assert(look_at_fd(fds[i], &one));
        ck_assert(list_has(&list, &one, true));
    }
    close_many(fds, 20);
}
END_TEST

static void check_most_fds(mtask_proc_method method) {
    static fd_list list;
    mtask_proc_desc desc = {.call = tell_fds, .method = method};
    mtask_proc *proc = NULL;
    int fds[201];
    open_many(fds, 201);
    for (int i = 0; i < 100; i++) { /* in no order */
        int fd = fds[i];
        fds[i] = fds[i * 37 % 200];
        fds[i * 37 % 200] = fd;
    }
    desc.fds = fds;
    desc.fd_count = 200;
    list_fds(&desc, &list);
    for (int i = 0; i < 200; i++) {
        open_fd one;
        ck_assert(look_at_fd(fds[i], &one));
        ck_assert(list_has(&list, &one, true));
    }
    desc.fd_count = 201;
    ck_assert_status(mtask_proc_start_ex(&proc, &desc), MTASK_INVALID);
    close_many(fds, 201);
}

START_TEST(two_hundred_descriptors_can_be_named) {
    check_most_fds(MTASK_PROC_SPAWN);
    check_most_fds(MTASK_PROC_FORKSERVER);
}
END_TEST

static void check_wrong_fd(mtask_proc_method method, int fd) {
    const int fds[] = {fd};
    mtask_proc_desc desc = {.call = echo, .method = method, .fds = fds, .fd_count = 1};
    mtask_proc *proc = NULL;
    int before = count_fds();
    ck_assert_status(mtask_proc_start_ex(&proc, &desc), MTASK_INVALID);
    ck_assert_ptr_null(proc);
    ck_assert_int_eq(count_fds(), before);
}

START_TEST(descriptors_that_cannot_be_named_are_refused) {
    ck_assert_status(mtask_forkserver_start(NULL), MTASK_OK);
    for (mtask_proc_method method = MTASK_PROC_SPAWN; method <= MTASK_PROC_FORKSERVER;
         method = (mtask_proc_method)(method + 1)) {
        (void)end_proc(start_call(method, echo, NULL, 0), MTASK_OK);
        check_wrong_fd(method, 2);
        check_wrong_fd(method, -1);
        check_wrong_fd(method, 999); /* is not open */
    }
    ck_assert(!has_zombies());
}
END_TEST

START_TEST(descriptors_do_not_pile_up_in_children) {
    static const mtask_proc_method methods[] = {MTASK_PROC_SPAWN, MTASK_PROC_FORKSERVER};
    static fd_list list;
    mtask_proc *procs[6];
    wires pair;
    open_wires(&pair);
    for (int m = 0; m < 2; m++) {
        mtask_proc_desc desc = {.call = tell_fds, .method = methods[m]};
        size_t before;
        list_fds(&desc, &list);
        before = list.count;
        for (int i = 0; i < 6; i++)
            procs[i] = start_waiting(methods[m], &pair, i % 2 == 0);
        list_fds(&desc, &list);
        ck_assert_uint_eq(list.count, before);
        for (int i = 0; i < 6; i++)
            say_go(&pair);
        for (int i = 0; i < 6; i++)
            (void)end_proc(procs[i], MTASK_OK);
        for (int i = 0; i < 6; i++)
            ck_assert_int_eq(hear(&pair), 'e');
    }
    end_wires(&pair);
}
END_TEST

static void *start_without_standard_fds(void *arg) {
    static const mtask_proc_method methods[] = {MTASK_PROC_SPAWN, MTASK_PROC_FORKSERVER,
                                                MTASK_PROC_FORK};
    for (int fd = 0; fd < 3; fd++)
        close(fd);
    for (int i = 0; i < 3; i++) {
        mtask_buf result = {0};
        mtask_proc *proc = start_call(methods[i], echo, "some input", 10);
        IN_CHILD(mtask_proc_join(proc, NULL, MTASK_FOREVER) == MTASK_OK);
        IN_CHILD(mtask_proc_result(proc, &result) == MTASK_OK);
        IN_CHILD(result.size == 10 && memcmp(result.data, "some input", 10) == 0);
        mtask_buf_free(&result);
        IN_CHILD(mtask_proc_close(proc) == MTASK_OK);
    }
    return arg;
}

START_TEST(a_program_without_standard_descriptors_starts_processes) {
    (void)end_proc(start_proc(start_without_standard_fds, NULL), MTASK_OK);
}
END_TEST

/* ---- the fork server ---- */

static mtask_status tell_parent(const void *in, size_t size, mtask_buf *out) {
    (void)in;
    (void)size;
    return mtask_buf_printf(out, "%ld", (long)getppid());
}

/* What `call`, forked by the server, says. */
static void check_served(mtask_bytes_fn call, const char *expected) {
    mtask_buf result = {0};
    mtask_proc *proc = start_call(MTASK_PROC_FORKSERVER, call, NULL, 0);
    (void)join_proc(proc, MTASK_OK);
    ck_assert_status(mtask_proc_result(proc, &result), MTASK_OK);
    check_text(&result, expected);
    mtask_buf_free(&result);
    ck_assert_status(mtask_proc_close(proc), MTASK_OK);
}

static void check_server_is(pid_t pid) {
    char number[24];
    snprintf(number, sizeof number, "%ld", (long)pid);
    ck_assert_int_eq(mtask_forkserver_pid(), pid);
    check_served(tell_parent, number);
}

START_TEST(the_fork_server_runs_from_its_first_use_until_it_is_stopped) {
    pid_t pid, last = 0;
    ck_assert_int_eq(mtask_forkserver_pid(), 0);
    ck_assert_status(mtask_forkserver_stop(), MTASK_OK);
    for (int round = 0; round < 3; round++) {
        if (round == 1)
            ck_assert_status(mtask_forkserver_start(NULL), MTASK_OK);
        else
            (void)end_proc(start_call(MTASK_PROC_FORKSERVER, echo, NULL, 0), MTASK_OK);
        pid = mtask_forkserver_pid();
        ck_assert(pid > 0 && pid != last);
        check_server_is(pid);
        ck_assert_status(mtask_forkserver_start(NULL), MTASK_OK);
        check_server_is(pid);
        ck_assert_status(mtask_forkserver_stop(), MTASK_OK);
        ck_assert_int_eq(mtask_forkserver_pid(), 0);
        ck_assert_int_eq(state_of(pid), 0);
        last = pid;
    }
    ck_assert(!has_zombies());
}
END_TEST

static void set_private_number(void) {
    private_number += 54;
}

START_TEST(the_fork_server_preloads_once) {
    private_number = 2;
    ck_assert_status(mtask_forkserver_start(set_private_number), MTASK_OK);
    check_served(tell_private_number, "55");
    check_served(tell_private_number, "55");
    ck_assert_int_eq(private_number, 2);
    ck_assert_int_eq(kill(mtask_forkserver_pid(), SIGKILL), 0);
    await_end(mtask_forkserver_pid());
    check_served(tell_private_number, "55"); /* so does the one that takes its place */
}
END_TEST

static mtask_status tell_surroundings(const void *in, size_t size, mtask_buf *out) {
    char path[PATH_MAX];
    const char *value = getenv("MTASK_TEST_SURROUNDINGS");
    (void)in;
    (void)size;
    IN_CHILD(getcwd(path, sizeof path) != NULL);
    return mtask_buf_printf(out, "%s %s", path, value != NULL ? value : "-");
}

START_TEST(the_fork_server_keeps_the_surroundings_in_which_it_began) {
    ck_assert_int_eq(unsetenv("TSAN_OPTIONS"), 0); /* which may name a file here */
    ck_assert_int_eq(chdir("/usr"), 0);
    ck_assert_int_eq(setenv("MTASK_TEST_SURROUNDINGS", "early", 1), 0);
    ck_assert_status(mtask_forkserver_start(NULL), MTASK_OK);
    ck_assert_int_eq(chdir("/"), 0);
    ck_assert_int_eq(setenv("MTASK_TEST_SURROUNDINGS", "late", 1), 0);
    check_served(tell_surroundings, "/usr early");
    ck_assert_status(mtask_forkserver_stop(), MTASK_OK);
    check_served(tell_surroundings, "/ late");
}
END_TEST

/* Ends the fork server by `kill`, or else by a stop, while processes of its run. */
static void check_end_of_server(bool by_kill) {
    mtask_proc *procs[3];
    mtask_buf result = {0};
    wires pair;
    pid_t pid;
    open_wires(&pair);
    for (int i = 0; i < 2; i++) {
        procs[i] =
            start_wired(MTASK_PROC_FORKSERVER, i == 0 ? say_yes_on_go : fail_on_go, &pair, i == 1);
        ck_assert_int_eq(hear(&pair), 'b');
    }
    procs[2] = start_call(MTASK_PROC_FORKSERVER, echo, "before", 6);
    (void)join_proc(procs[2], MTASK_OK);
    pid = mtask_forkserver_pid();
    if (by_kill) {
        ck_assert_int_eq(kill(pid, SIGKILL), 0);
        await_end(pid);
    } else {
        ck_assert_status(mtask_forkserver_stop(), MTASK_OK);
    }
    ck_assert(mtask_proc_is_alive(procs[0]) && mtask_proc_is_alive(procs[1]));
    ck_assert_status(mtask_proc_join(procs[0], NULL, MTASK_MS(2)), MTASK_TIMEOUT);
    (void)end_proc(start_call(MTASK_PROC_FORKSERVER, echo, "after", 5), MTASK_OK);
    ck_assert_int_ne(mtask_forkserver_pid(), pid);
    say_go(&pair);
    say_go(&pair);
    (void)join_proc(procs[0], MTASK_OK);
    ck_assert_status(mtask_proc_result(procs[0], &result), MTASK_OK);
    check_text(&result, "yes");
    ck_assert_int_eq(exitcode_of(procs[0]), 0);
    (void)join_failure(procs[1]);
    ck_assert_int_eq(exitcode_of(procs[1]), 1);
    (void)join_proc(procs[2], MTASK_OK);
    for (int i = 0; i < 3; i++)
        ck_assert_status(mtask_proc_close(procs[i]), MTASK_OK);
    mtask_buf_free(&result);
    end_wires(&pair);
}

START_TEST(processes_of_a_fork_server_that_ended_are_still_joined) {
    check_end_of_server(false);
    check_end_of_server(true);
}
END_TEST

START_TEST(a_process_killed_after_its_fork_server_is_not_waited_for) {
    for (int i = 0; i < 2; i++) {
        mtask_proc *proc;
        wires pair;
        open_wires(&pair);
        proc = start_waiting(MTASK_PROC_FORKSERVER, &pair, false);
        ck_assert_int_eq(kill(mtask_forkserver_pid(), SIGKILL), 0);
        await_end(mtask_forkserver_pid());
        if (i == 0) {
            ck_assert_int_eq(kill(mtask_proc_pid(proc), SIGKILL), 0);
        } else {
            ck_assert_status(mtask_proc_kill(proc), MTASK_OK);
        }
        (void)join_proc(proc, MTASK_FAILED);
        ck_assert_status(mtask_proc_close(proc), MTASK_OK);
        end_wires(&pair);
    }
}
END_TEST

static void *use_own_server(void *arg) {
    pid_t pid = *(pid_t *)arg;
    IN_CHILD(mtask_forkserver_pid() == 0);
    (void)end_proc(start_call(MTASK_PROC_FORKSERVER, echo, "in", 2), MTASK_OK);
    IN_CHILD(mtask_forkserver_pid() != 0 && mtask_forkserver_pid() != pid);
    IN_CHILD(mtask_forkserver_stop() == MTASK_OK);
    return arg;
}

START_TEST(a_forked_child_has_a_fork_server_of_its_own) {
    pid_t pid;
    ck_assert_status(mtask_forkserver_start(NULL), MTASK_OK);
    pid = mtask_forkserver_pid();
    (void)end_proc(start_proc(use_own_server, &pid), MTASK_OK);
    check_server_is(pid);
}
END_TEST

/* Starts a fork server whose standard output is the only open end of a pipe, but for the caller's. */
static void *have_server(void *arg) {
    const wires *pair = (const wires *)arg;
    IN_CHILD(dup2(pair->tell[1], 1) == 1 && close(pair->tell[1]) == 0);
    IN_CHILD(mtask_forkserver_start(NULL) == MTASK_OK);
    IN_CHILD(write(1, "b", 1) == 1);
    return sleep_for_ever(NULL);
}

START_TEST(the_fork_server_ends_with_its_parent) {
    mtask_proc *proc;
    wires pair;
    open_wires(&pair);
    proc = start_proc(have_server, &pair);
    hear_others(&pair);
    ck_assert_int_eq(hear(&pair), 'b');
    ck_assert_status(mtask_proc_kill(proc), MTASK_OK);
    (void)end_proc(proc, MTASK_FAILED);
    ck_assert_int_eq(hear(&pair), 0);
    end_wires(&pair);
}
END_TEST

static mtask_word stop;

/* Kills the fork server, again and again. */
static void server_killer(testing_member *self) {
    testing_random random = testing_random_make(*(uint64_t *)self->arg, 1);
    const uint64_t longest = SLOW ? 200000 : 20000; /* now and then it may serve */
    while (mtask_word_load(&stop) == 0) {
        pid_t pid = mtask_forkserver_pid();
        (void)mtask_sleep(MTASK_US(testing_below(&random, testing_below(&random, longest) + 1)));
        if (pid > 0 && mtask_forkserver_pid() == pid)
            (void)kill(pid, SIGKILL);
    }
}

/* Starts a process by the fork server, which may end in the midst of it; whether it did not. */
static bool try_server(void) {
    mtask_proc_desc desc = {.call = echo, .in = "input", .in_size = 5};
    mtask_proc *proc = NULL;
    mtask_status status;
    desc.method = MTASK_PROC_FORKSERVER;
    status = mtask_proc_start_ex(&proc, &desc);
    if (status == MTASK_OK)
        (void)end_proc(proc, MTASK_OK);
    else
        ck_assert_status(status, MTASK_BROKEN);
    return status == MTASK_OK;
}

START_TEST(the_fork_server_can_be_killed_at_any_moment) {
    uint64_t seed = testing_seed();
    int64_t start = mtask_now();
    long served = 0;
    testing_crowd crowd;
    testing_crowd_start(&crowd, 1, server_killer, &seed);
    for (long i = testing_scale(1000); i > 0 && testing_has_time(start); i--)
        served += try_server();
    mtask_word_store(&stop, 1);
    testing_crowd_join(&crowd);
    while (!try_server()) /* the last kill may still be to come */
        testing_pause(1);
    ck_assert_int_gt(served, 0);
    ck_assert_status(mtask_forkserver_stop(), MTASK_OK);
    ck_assert_status(mtask_proc_join_all(MTASK_FOREVER), MTASK_OK);
    ck_assert(!has_zombies());
}
END_TEST

/* ---- nothing is left behind ---- */

/* Pages of addresses that this process uses. */
static long count_pages(void) {
    FILE *file = fopen("/proc/self/statm", "r");
    long pages = 0;
    ck_assert_ptr_nonnull(file);
    ck_assert_int_eq(fscanf(file, "%ld", &pages), 1);
    fclose(file);
    return pages;
}

/* Starts `count` processes, of which some fail, and some are let go. */
static void start_some(mtask_proc_method method, long count) {
    for (long i = 0; i < count; i++) {
        const ending *how = &endings[i % 2 == 0 ? 0 : 4];
        mtask_proc *proc = start_call(method, end_so, how, sizeof *how);
        if (i % 5 == 4)
            mtask_proc_release(proc);
        else
            (void)end_proc(proc, i % 2 == 0 ? MTASK_OK : MTASK_FAILED);
    }
    ck_assert_status(mtask_proc_join_all(MTASK_FOREVER), MTASK_OK);
}

static void check_many(mtask_proc_method method, long count) {
    int fds;
    long pages;
    struct mallinfo2 before, after;
    start_some(method, 20);
    wait_once();
    fds = count_fds();
    pages = count_pages();
    before = mallinfo2();
    start_some(method, count);
    after = mallinfo2();
    ck_assert_int_eq(count_fds(), fds);
    ck_assert(!has_zombies());
    if (TESTING_ASAN || TESTING_TSAN)
        return;
    ck_assert_uint_le(after.uordblks, before.uordblks + 2048);
    ck_assert_int_le(count_pages(), pages + 64);
}

START_TEST(many_forked_processes_leave_nothing) {
    check_many(MTASK_PROC_FORK, testing_scale(SLOW ? 3000 : 10000));
}
END_TEST

START_TEST(many_spawned_processes_leave_nothing) {
    check_many(MTASK_PROC_SPAWN, testing_scale(800));
}
END_TEST

START_TEST(many_processes_of_the_fork_server_leave_nothing) {
    check_many(MTASK_PROC_FORKSERVER, testing_scale(3000));
}
END_TEST

/* Tries to start a process while only some more descriptors can be opened; whether it could. */
static bool start_with_few_fds(const mtask_proc_desc *desc, const int *spare, int count) {
    mtask_proc *proc = NULL;
    mtask_status status;
    for (int i = 0; i < count; i++)
        ck_assert_int_eq(close(spare[i]), 0);
    status = mtask_proc_start_ex(&proc, desc);
    if (status == MTASK_OK) {
        (void)end_proc(proc, MTASK_OK);
        return true;
    }
    ck_assert_status(status, MTASK_SYSTEM);
    ck_assert_int_eq(errno, EMFILE);
    ck_assert_ptr_null(proc);
    ck_assert_status(mtask_forkserver_stop(), MTASK_OK); /* if that, at least, was started */
    for (int i = 0; i < count; i++)                      /* all that were free are free again */
        ck_assert_int_eq(dup(2), spare[i]);
    ck_assert_int_eq(dup(2), -1);
    return false;
}

static void check_few_fds(mtask_proc_method method, bool daemon) {
    mtask_proc_desc desc = {.call = echo, .method = method, .daemon = daemon};
    struct rlimit old, limit;
    int spare[64], count = 0, needed = 0;
    (void)end_proc(start_desc(&desc), MTASK_OK); /* what the first start opens is open then */
    ck_assert_status(mtask_forkserver_stop(), MTASK_OK);
    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &old), 0);
    limit = old;
    limit.rlim_cur = 64;
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
    while ((spare[count] = dup(2)) >= 0)
        count++;
    ck_assert_int_eq(errno, EMFILE);
    while (!start_with_few_fds(&desc, spare, needed))
        ck_assert_int_lt(++needed, count);
    close_many(spare + needed, (size_t)(count - needed));
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &old), 0);
    ck_assert_int_gt(needed, 0);
}

START_TEST(a_start_that_runs_out_of_descriptors_leaves_nothing) {
    for (int daemon = 0; daemon < 2; daemon++) {
        check_few_fds(MTASK_PROC_FORK, daemon != 0);
        check_few_fds(MTASK_PROC_SPAWN, daemon != 0);
        check_few_fds(MTASK_PROC_FORKSERVER, daemon != 0);
    }
    ck_assert(!has_zombies());
}
END_TEST

/* ---- in the midst of other things ---- */

static void *be_busy_with_threads(void *arg) {
    while (mtask_word_load(&stop) == 0) {
        mtask_thread thread = {0};
        mtask_thread_info info;
        size_t count;
        ck_assert_status(mtask_thread_start(&thread, return_arg, arg), MTASK_OK);
        (void)mtask_thread_enumerate(&info, 1, &count);
        ck_assert_status(mtask_thread_join(&thread, NULL, MTASK_FOREVER), MTASK_OK);
    }
    return NULL;
}

static void *be_busy_with_timers(void *arg) {
    while (mtask_word_load(&stop) == 0) {
        mtask_timer timer = {0};
        ck_assert_status(mtask_timer_start(&timer, MTASK_US(30), return_arg, arg), MTASK_OK);
        testing_check(mtask_timer_cancel(&timer, MTASK_FOREVER) != MTASK_TIMEOUT);
    }
    return NULL;
}

static void *sleep_a_little(void *arg) {
    (void)mtask_sleep(MTASK_US(20));
    return arg;
}

static void *be_busy_with_a_loop(void *arg) {
    int ends[2];
    open_pipe(ends);
    while (mtask_word_load(&stop) == 0) {
        mtask_future *future = go(sleep_a_little, arg);
        ck_assert_status(mtask_io_wait(ends[0], MTASK_IO_READ, MTASK_US(10)), MTASK_TIMEOUT);
        (void)take(future);
    }
    end_fds(ends);
    return NULL;
}

static void *be_busy_with_processes(void *arg) {
    while (mtask_word_load(&stop) == 0) {
        mtask_proc_info info;
        size_t count;
        (void)mtask_proc_enumerate(&info, 1, &count);
        ck_assert_int_eq(take_proc(start_proc(return_arg, (void *)5)), 5);
    }
    return arg;
}

static void busy_member(testing_member *self) {
    static const mtask_fn all[] = {be_busy_with_threads, be_busy_with_timers, be_busy_with_a_loop,
                                   be_busy_with_processes};
    if (self->index == 2)
        (void)in_loop(all[2], NULL);
    else
        (void)all[self->index](NULL);
}

static mtask_mutex lock;

/* What works without a thread and without memory, and, where that may be, what else there is. */
static void *use_mtask(void *arg) {
    mtask_event event = {0};
    IN_CHILD(mtask_mutex_lock(&lock) == MTASK_OK && mtask_mutex_unlock(&lock) == MTASK_OK);
    IN_CHILD(mtask_event_wait(&event, MTASK_US(10)) == MTASK_TIMEOUT);
    IN_CHILD(mtask_thread_main().id == mtask_thread_current().id);
    IN_CHILD(mtask_proc_current().pid == getpid());
    if (CHILDREN_MAY_DO_ALL) {
        mtask_thread thread = {0};
        mtask_outcome outcome;
        void *memory = malloc(100000);
        IN_CHILD(memory != NULL);
        free(memory);
        IN_CHILD(mtask_thread_start(&thread, return_arg, arg) == MTASK_OK);
        IN_CHILD(mtask_thread_join(&thread, &outcome, MTASK_FOREVER) == MTASK_OK);
        IN_CHILD(outcome.value == arg);
        IN_CHILD(mtask_loop_run(sleep_a_little, arg, &outcome) == MTASK_OK);
        IN_CHILD(outcome.value == arg);
    }
    return arg;
}

START_TEST(forking_is_safe_while_other_threads_are_busy) {
    int64_t start;
    testing_crowd crowd;
    testing_crowd_start(&crowd, 4, busy_member, NULL);
    start = mtask_now();
    for (long i = testing_scale(500); i > 0 && testing_has_time(start); i--)
        ck_assert_int_eq(take_proc(start_proc(use_mtask, (void *)i)), i);
    mtask_word_store(&stop, 1);
    testing_crowd_join(&crowd);
    ck_assert_int_eq(take_proc(start_proc(use_mtask, (void *)1)), 1);
}
END_TEST

static void start_by_thread(testing_member *self) {
    mtask_proc_method method = self->index < 3 ? MTASK_PROC_FORK : MTASK_PROC_FORKSERVER;
    for (long i = testing_scale(100); i > 0; i--) {
        char text[16];
        mtask_buf result = {0};
        mtask_proc *proc;
        size_t size = (size_t)snprintf(text, sizeof text, "%d %ld", self->index, i);
        if (method == MTASK_PROC_FORK) {
            ck_assert_int_eq(take_proc(start_proc(use_mtask, (void *)i)), i);
            continue;
        }
        proc = start_call(method, echo, text, size);
        (void)join_proc(proc, MTASK_OK);
        ck_assert_status(mtask_proc_result(proc, &result), MTASK_OK);
        check_text(&result, text);
        mtask_buf_free(&result);
        ck_assert_status(mtask_proc_close(proc), MTASK_OK);
    }
}

START_TEST(several_threads_start_processes_at_the_same_time) {
    testing_crowd crowd;
    testing_crowd_start(&crowd, 5, start_by_thread, NULL);
    testing_crowd_join(&crowd);
    ck_assert(!has_zombies());
}
END_TEST

/* In the child of a task: it is no task, and its loop is not here. */
static void *use_mtask_after_task(void *arg) {
    IN_CHILD(mtask_sleep(MTASK_US(50)) == MTASK_OK);
    return use_mtask(arg);
}

static void *start_by_task(void *arg) {
    for (long i = 1; i <= 3; i++) {
        ck_assert_int_eq(take_proc(start_proc(use_mtask_after_task, (void *)i)), i);
        (void)end_proc(start_call(MTASK_PROC_FORKSERVER, echo, "in", 2), MTASK_OK);
        (void)end_proc(start_call(MTASK_PROC_SPAWN, echo, "in", 2), MTASK_OK);
    }
    return arg;
}

static void *start_by_tasks(void *arg) {
    mtask_future *futures[4];
    for (int i = 0; i < 4; i++)
        futures[i] = go(start_by_task, arg);
    for (int i = 0; i < 4; i++)
        (void)take(futures[i]);
    return arg;
}

START_TEST(tasks_start_processes) {
    (void)in_loop(start_by_tasks, NULL);
    ck_assert(!has_zombies());
}
END_TEST

static void use_handle(testing_member *self) {
    mtask_proc *proc = (mtask_proc *)self->arg;
    mtask_buf result = {0};
    int code = 5;
    if (self->index < 2) {
        ck_assert_status(mtask_proc_join(proc, NULL, MTASK_FOREVER), MTASK_OK);
    } else if (self->index == 2) {
        while (mtask_proc_is_alive(proc))
            ck_assert_status(mtask_proc_signal(proc, SIGURG), MTASK_OK); /* is ignored */
    } else {
        while (mtask_proc_exitcode(proc, &code) == MTASK_TIMEOUT)
            sched_yield();
        testing_check(code == 0);
    }
    ck_assert_status(mtask_proc_result(proc, &result), MTASK_OK);
    testing_check(result.size == 4 && memcmp(result.data, "done", 4) == 0);
    mtask_buf_free(&result);
    testing_check(mtask_proc_exitcode(proc, &code) == MTASK_OK && code == 0);
}

static mtask_status say_done_soon(const void *in, size_t size, mtask_buf *out) {
    testing_pause((long)size); /* milliseconds */
    (void)in;
    return mtask_buf_printf(out, "done");
}

START_TEST(many_threads_may_use_a_handle) {
    for (long i = testing_scale(150); i >= 0; i--) {
        mtask_proc_method method = i % 4 == 0 ? MTASK_PROC_FORKSERVER : MTASK_PROC_FORK;
        mtask_proc *proc = start_call(method, say_done_soon, "12", (size_t)(i % 3));
        testing_crowd crowd;
        testing_crowd_start(&crowd, 4, use_handle, proc);
        testing_crowd_join(&crowd);
        ck_assert_status(mtask_proc_close(proc), MTASK_OK);
    }
    ck_assert(!has_zombies());
}
END_TEST

static volatile sig_atomic_t interrupts;

static void count_interrupt(int number) {
    (void)number;
    interrupts++;
}

/* From now on a signal comes every 100 microseconds, or none any more. */
static void interrupt_all_the_time(bool on) {
    const suseconds_t period = SLOW ? 1000 : 100;
    struct itimerval timer = {{0, 0}, {0, 0}};
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = count_interrupt; /* no SA_RESTART */
    ck_assert_int_eq(sigaction(SIGALRM, &action, NULL), 0);
    timer.it_interval.tv_usec = timer.it_value.tv_usec = on ? period : 0;
    ck_assert_int_eq(setitimer(ITIMER_REAL, &timer, NULL), 0);
}

static void *pause_and_return(void *arg) {
    testing_pause(2);
    return arg;
}

static void start_under_interrupts(mtask_proc_method method) {
    for (long i = testing_scale(60); i > 0; i--) {
        mtask_buf result = {0};
        mtask_proc *proc = start_call(method, echo, "some input", 10);
        (void)join_proc(proc, MTASK_OK);
        ck_assert_status(mtask_proc_result(proc, &result), MTASK_OK);
        check_text(&result, "some input");
        mtask_buf_free(&result);
        ck_assert_status(mtask_proc_close(proc), MTASK_OK);
    }
}

START_TEST(interrupted_calls_go_on) {
    mtask_proc *proc;
    interrupt_all_the_time(true);
    by_each_method(start_under_interrupts);
    proc = start_proc(pause_and_return, (void *)3);
    ck_assert_status(mtask_proc_join(proc, NULL, MTASK_NOWAIT), MTASK_TIMEOUT);
    ck_assert_int_eq(take_proc(proc), 3);
    mtask_proc_release(start_proc(pause_and_return, NULL));
    ck_assert_status(mtask_proc_join_all(MTASK_FOREVER), MTASK_OK);
    ck_assert_status(mtask_forkserver_stop(), MTASK_OK);
    interrupt_all_the_time(false);
    ck_assert_int_gt(interrupts, 0);
    ck_assert(!has_zombies());
}
END_TEST

/* Kills a process at some moment; it has its outcome or has crashed. */
static void kill_at_some_moment(mtask_proc_method method, testing_random *random) {
    static char input[40000];
    mtask_proc *proc = start_call(method, echo, input, sizeof input);
    mtask_buf result = {0};
    mtask_outcome outcome;
    mtask_status status;
    (void)mtask_sleep(MTASK_US(testing_below(random, method == MTASK_PROC_SPAWN ? 3000 : 600)));
    ck_assert_status(mtask_proc_kill(proc), MTASK_OK);
    status = mtask_proc_join(proc, &outcome, MTASK_FOREVER);
    if (status == MTASK_OK) {
        ck_assert_status(mtask_proc_result(proc, &result), MTASK_OK);
        ck_assert_uint_eq(result.size, sizeof input);
    } else {
        ck_assert_status(status, MTASK_FAILED);
        ck_assert_status(outcome.status, MTASK_CRASHED);
        ck_assert_int_eq(exitcode_of(proc), -SIGKILL);
        ck_assert_status(mtask_proc_result(proc, &result), MTASK_FAILED);
    }
    mtask_buf_free(&result);
    ck_assert_status(mtask_proc_close(proc), MTASK_OK);
}

START_TEST(processes_can_be_killed_at_any_moment) {
    testing_random random = testing_random_make(testing_seed(), 0);
    int64_t start = mtask_now();
    int fds;
    (void)end_proc(start_call(MTASK_PROC_FORKSERVER, echo, NULL, 0), MTASK_OK);
    wait_once();
    fds = count_fds();
    for (long i = testing_scale(1000); i > 0 && testing_has_time(start); i--)
        kill_at_some_moment((mtask_proc_method)(MTASK_PROC_FORK + testing_below(&random, 3)),
                            &random);
    ck_assert_int_eq(count_fds(), fds);
    ck_assert(!has_zombies());
}
END_TEST

TESTING_PROC_MAIN(
    "proc", a_buffer_begins_empty_and_is_empty_again_when_freed,
    a_buffer_keeps_all_that_is_appended, reserved_room_may_be_written, room_that_is_there_is_used,
    a_text_can_be_printed_into_a_buffer, what_a_buffer_refuses_changes_nothing,
    a_process_runs_a_function_in_a_copy_of_the_memory, a_value_comes_back_whole,
    the_parent_learns_the_status_and_text_of_a_failure, a_failures_text_may_be_too_long_or_missing,
    a_call_fails_by_what_it_returns_or_by_mtask_fail, exit_codes_and_signals_are_told,
    a_process_may_become_another_program, exit_runs_atexit_functions_and_returning_does_not,
    a_join_waits_as_long_as_it_may, the_end_of_a_process_is_seen_without_a_join,
    processes_may_be_joined_in_any_order, several_threads_and_tasks_may_join_a_process,
    a_task_that_joins_lets_others_run, a_join_can_be_cancelled_and_the_process_goes_on,
    inputs_and_results_of_any_size_arrive, a_result_is_there_when_the_process_has_ended,
    a_program_that_reaps_its_children_itself_learns_their_values,
    a_program_that_ignores_sigchld_learns_their_values,
    a_process_can_be_terminated_killed_and_sent_any_signal, a_process_may_handle_its_signals,
    a_stopped_process_has_not_ended, a_forked_process_blocks_the_signals_that_its_parent_does,
    a_sentinel_tells_the_end, a_sentinel_of_one_that_has_ended_is_ready,
    connections_and_sentinels_can_be_awaited_together,
    a_handle_can_be_closed_when_the_process_has_ended, a_process_that_was_let_go_leaves_nothing,
    closing_leaves_no_descriptor_and_no_zombie, a_parents_handles_are_of_no_use_in_a_forked_child,
    what_cannot_be_started_is_refused, a_process_knows_its_name_and_parent,
    the_main_process_knows_itself, processes_are_numbered_unless_they_have_a_name,
    processes_that_run_are_enumerated, join_all_waits_for_all_and_ends_the_daemons,
    join_all_kills_a_daemon_that_ignores_sigterm, a_task_may_join_all_and_be_cancelled,
    a_process_waits_for_its_threads_that_are_no_daemons,
    a_process_waits_for_its_processes_that_are_no_daemons, output_is_written_once_and_in_order,
    processes_start_processes_that_start_processes,
    a_process_of_any_method_starts_processes_of_any_method,
    daemons_end_with_their_parent_however_it_ends,
    daemons_of_a_parent_that_has_ended_before_end_too, others_go_on_when_their_parent_has_ended,
    a_daemon_depends_on_the_process_and_not_on_the_forking_thread,
    other_children_of_a_dead_parent_do_not_keep_its_daemons_alive,
    a_process_can_wait_for_the_end_of_its_parent, the_default_method_can_be_set,
    a_function_without_an_argument_runs_by_any_method, a_function_that_is_in_no_module_is_not_found,
    a_function_of_a_library_is_found, a_function_of_a_library_that_only_the_parent_has_is_not_found,
    starting_the_program_again_needs_mtask_proc_init, a_process_may_be_nicer,
    a_process_uses_the_cpus_that_it_may, a_process_made_anew_inherits_only_what_is_named,
    a_forked_process_inherits_all, two_hundred_descriptors_can_be_named,
    descriptors_that_cannot_be_named_are_refused, descriptors_do_not_pile_up_in_children,
    a_program_without_standard_descriptors_starts_processes,
    the_fork_server_runs_from_its_first_use_until_it_is_stopped, the_fork_server_preloads_once,
    the_fork_server_keeps_the_surroundings_in_which_it_began,
    processes_of_a_fork_server_that_ended_are_still_joined,
    a_process_killed_after_its_fork_server_is_not_waited_for,
    a_forked_child_has_a_fork_server_of_its_own, the_fork_server_ends_with_its_parent,
    the_fork_server_can_be_killed_at_any_moment, many_forked_processes_leave_nothing,
    many_spawned_processes_leave_nothing, many_processes_of_the_fork_server_leave_nothing,
    a_start_that_runs_out_of_descriptors_leaves_nothing,
    forking_is_safe_while_other_threads_are_busy, several_threads_start_processes_at_the_same_time,
    tasks_start_processes, many_threads_may_use_a_handle, interrupted_calls_go_on,
    processes_can_be_killed_at_any_moment)
