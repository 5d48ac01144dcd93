/* test_mtask_thread.c - threads: start, join, detach, names, identity, outcomes, join_all */
#include "testing.h"

#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <sys/syscall.h>

/* ---- helpers ---- */

static mtask_event gate; /* what wait_at_gate waits for */

static void *return_arg(void *arg) {
    return arg;
}

static void *wait_at_gate(void *arg) {
    ck_assert_status(mtask_event_wait(&gate, MTASK_FOREVER), MTASK_OK);
    return arg;
}

/* Ends a thread that waits at the gate. */
static void open_and_join(mtask_thread *thread) {
    mtask_event_set(&gate);
    ck_assert_status(mtask_thread_join(thread, NULL, MTASK_FOREVER), MTASK_OK);
}

static int64_t gettid_here(void) {
    return (int64_t)syscall(SYS_gettid);
}

/* How many entries a directory of /proc has. */
static int count_entries(const char *path) {
    DIR *dir = opendir(path);
    int count = 0;
    ck_assert_ptr_nonnull(dir);
    while (readdir(dir) != NULL)
        count++;
    closedir(dir);
    return count;
}

/* Waits until the process has no more threads than `before`: a joined thread stays visible in /proc
   until the kernel has cleared it away. False if that never happens. */
static bool threads_are_gone(int before) {
    for (int i = 0; i < 2000; i++) {
        if (count_entries("/proc/self/task") <= before)
            return true;
        ck_assert_status(mtask_sleep(MTASK_MS(1)), MTASK_OK);
    }
    return false;
}

/* The name that the system has for thread `tid`. */
static void system_name(int64_t tid, char name[64]) {
    char path[64];
    FILE *file;
    snprintf(path, sizeof path, "/proc/self/task/%lld/comm", (long long)tid);
    file = fopen(path, "r");
    ck_assert_ptr_nonnull(file);
    ck_assert_ptr_nonnull(fgets(name, 64, file));
    fclose(file);
    name[strcspn(name, "\n")] = 0;
}

/* Looks a thread up by its id among the living; false if it is not there. */
static bool find_thread(uint64_t id, mtask_thread_info *found) {
    mtask_thread_info infos[64];
    size_t count = 0;
    ck_assert_status(mtask_thread_enumerate(infos, 64, &count), MTASK_OK);
    for (size_t i = 0; i < count; i++) {
        if (infos[i].id == id) {
            *found = infos[i];
            return true;
        }
    }
    return false;
}

/* ---- start and join ---- */

START_TEST(join_tells_what_the_thread_returned) {
    mtask_thread thread = {0};
    mtask_outcome outcome;
    int value = 0;
    memset(&outcome, 0x5a, sizeof outcome);
    ck_assert_status(mtask_thread_start(&thread, return_arg, &value), MTASK_OK);
    ck_assert_status(mtask_thread_join(&thread, &outcome, MTASK_FOREVER), MTASK_OK);
    ck_assert_status(outcome.status, MTASK_OK);
    ck_assert_ptr_eq(outcome.value, &value);
    ck_assert_str_eq(outcome.text, "");
}
END_TEST

START_TEST(a_null_value_is_no_failure) {
    mtask_thread thread = {0};
    mtask_outcome outcome;
    memset(&outcome, 0x5a, sizeof outcome);
    ck_assert_status(mtask_thread_start(&thread, return_arg, NULL), MTASK_OK);
    ck_assert_status(mtask_thread_join(&thread, &outcome, MTASK_FOREVER), MTASK_OK);
    ck_assert_status(outcome.status, MTASK_OK);
    ck_assert_ptr_null(outcome.value);
}
END_TEST

START_TEST(start_refuses_no_function) {
    mtask_thread thread = {0};
    mtask_thread_desc desc = {0};
    ck_assert_status(mtask_thread_start(&thread, NULL, NULL), MTASK_INVALID);
    ck_assert_status(mtask_thread_start_ex(&thread, &desc), MTASK_INVALID);
    ck_assert_status(mtask_thread_spawn(NULL, NULL), MTASK_INVALID);
    ck_assert(!mtask_thread_is_alive(&thread));
    ck_assert_uint_eq(mtask_thread_active_count(), 1);
}
END_TEST

START_TEST(start_refuses_a_handle_that_has_a_thread) {
    mtask_thread thread = {0};
    mtask_outcome outcome;
    int value = 0;
    ck_assert_status(mtask_thread_start(&thread, wait_at_gate, &value), MTASK_OK);
    ck_assert_status(mtask_thread_start(&thread, return_arg, NULL), MTASK_INVALID);
    mtask_event_set(&gate);
    while (mtask_thread_is_alive(&thread))
        ck_assert_status(mtask_sleep(MTASK_MS(1)), MTASK_OK);
    /* Finished, but nobody has joined it yet. */
    ck_assert_status(mtask_thread_start(&thread, return_arg, NULL), MTASK_INVALID);
    ck_assert_status(mtask_thread_join(&thread, &outcome, MTASK_FOREVER), MTASK_OK);
    ck_assert_ptr_eq(outcome.value, &value);
}
END_TEST

START_TEST(a_handle_starts_again_after_join_and_after_detach) {
    mtask_thread thread = {0};
    mtask_outcome outcome;
    int values[3];
    uint64_t first, second;
    ck_assert_status(mtask_thread_start(&thread, return_arg, &values[0]), MTASK_OK);
    first = mtask_thread_id(&thread);
    ck_assert_status(mtask_thread_join(&thread, NULL, MTASK_FOREVER), MTASK_OK);
    ck_assert_status(mtask_thread_start(&thread, return_arg, &values[1]), MTASK_OK);
    second = mtask_thread_id(&thread);
    ck_assert_uint_ne(first, second);
    ck_assert_status(mtask_thread_detach(&thread), MTASK_OK);
    ck_assert_status(mtask_thread_start(&thread, return_arg, &values[2]), MTASK_OK);
    ck_assert_status(mtask_thread_join(&thread, &outcome, MTASK_FOREVER), MTASK_OK);
    ck_assert_ptr_eq(outcome.value, &values[2]);
    ck_assert_status(mtask_thread_join_all(MTASK_FOREVER), MTASK_OK);
}
END_TEST

START_TEST(join_refuses_what_was_never_started) {
    mtask_thread thread = {0};
    ck_assert_status(mtask_thread_join(&thread, NULL, MTASK_NOWAIT), MTASK_INVALID);
    ck_assert_status(mtask_thread_join(&thread, NULL, MTASK_FOREVER), MTASK_INVALID);
}
END_TEST

START_TEST(join_refuses_a_negative_timeout) {
    mtask_thread thread = {0};
    ck_assert_status(mtask_thread_start(&thread, return_arg, NULL), MTASK_OK);
    ck_assert_status(mtask_thread_join(&thread, NULL, -1), MTASK_INVALID);
    ck_assert_status(mtask_thread_join(&thread, NULL, MTASK_FOREVER), MTASK_OK);
}
END_TEST

START_TEST(join_gives_up_in_time_and_can_be_tried_again) {
    mtask_thread thread = {0};
    mtask_outcome outcome;
    int value = 0;
    int64_t before;
    ck_assert_status(mtask_thread_start(&thread, wait_at_gate, &value), MTASK_OK);
    ck_assert_status(mtask_thread_join(&thread, NULL, MTASK_NOWAIT), MTASK_TIMEOUT);
    before = mtask_now();
    ck_assert_status(mtask_thread_join(&thread, NULL, MTASK_MS(20)), MTASK_TIMEOUT);
    ck_assert_int_ge(mtask_now() - before, MTASK_MS(20));
    ck_assert(mtask_thread_is_alive(&thread));
    mtask_event_set(&gate);
    ck_assert_status(mtask_thread_join(&thread, &outcome, MTASK_SEC(60)), MTASK_OK);
    ck_assert_ptr_eq(outcome.value, &value);
}
END_TEST

START_TEST(later_joins_tell_the_same) {
    mtask_thread thread = {0};
    mtask_outcome outcome;
    int value = 0;
    ck_assert_status(mtask_thread_start(&thread, return_arg, &value), MTASK_OK);
    for (int i = 0; i < 3; i++) {
        memset(&outcome, 0x5a, sizeof outcome);
        ck_assert_status(mtask_thread_join(&thread, &outcome, MTASK_FOREVER), MTASK_OK);
        ck_assert_status(outcome.status, MTASK_OK);
        ck_assert_ptr_eq(outcome.value, &value);
    }
    ck_assert_status(mtask_thread_join(&thread, &outcome, MTASK_NOWAIT), MTASK_OK);
}
END_TEST

static mtask_thread joined_by_many;
static int joined_value;

static void *join_the_one(void *arg) {
    mtask_outcome outcome;
    int64_t timeout = arg == NULL ? MTASK_FOREVER : MTASK_SEC(60);
    ck_assert_status(mtask_thread_join(&joined_by_many, &outcome, timeout), MTASK_OK);
    testing_check(outcome.value == &joined_value);
    return &joined_value;
}

START_TEST(several_join_at_once_and_all_learn_the_outcome) {
    mtask_thread joiners[6] = {0};
    mtask_outcome outcome;
    ck_assert_status(mtask_thread_start(&joined_by_many, wait_at_gate, &joined_value), MTASK_OK);
    for (int i = 0; i < 6; i++)
        ck_assert_status(mtask_thread_start(&joiners[i], join_the_one, i % 2 ? &gate : NULL),
                         MTASK_OK);
    ck_assert_status(mtask_sleep(MTASK_MS(5)), MTASK_OK); /* let some of them wait */
    mtask_event_set(&gate);
    for (int i = 0; i < 6; i++) {
        ck_assert_status(mtask_thread_join(&joiners[i], &outcome, MTASK_FOREVER), MTASK_OK);
        ck_assert_ptr_eq(outcome.value, &joined_value);
    }
    ck_assert_status(mtask_thread_join(&joined_by_many, &outcome, MTASK_NOWAIT), MTASK_OK);
    ck_assert_ptr_eq(outcome.value, &joined_value);
}
END_TEST

static void *join_myself(void *arg) {
    mtask_thread *self = (mtask_thread *)arg;
    ck_assert_status(mtask_event_wait(&gate, MTASK_FOREVER), MTASK_OK);
    ck_assert_status(mtask_thread_join(self, NULL, MTASK_FOREVER), MTASK_DEADLOCK);
    ck_assert_status(mtask_thread_join(self, NULL, MTASK_NOWAIT), MTASK_DEADLOCK);
    return NULL;
}

START_TEST(joining_oneself_is_refused) {
    mtask_thread thread = {0};
    ck_assert_status(mtask_thread_start(&thread, join_myself, &thread), MTASK_OK);
    open_and_join(&thread);
}
END_TEST

START_TEST(a_detached_handle_has_no_thread) {
    mtask_thread thread = {0};
    ck_assert_status(mtask_thread_detach(&thread), MTASK_INVALID);
    ck_assert_status(mtask_thread_start(&thread, wait_at_gate, NULL), MTASK_OK);
    ck_assert_status(mtask_thread_detach(&thread), MTASK_OK);
    ck_assert_status(mtask_thread_join(&thread, NULL, MTASK_FOREVER), MTASK_INVALID);
    ck_assert_status(mtask_thread_detach(&thread), MTASK_INVALID);
    ck_assert_uint_eq(mtask_thread_active_count(), 2);
    mtask_event_set(&gate);
    ck_assert_status(mtask_thread_join_all(MTASK_FOREVER), MTASK_OK);
    ck_assert_uint_eq(mtask_thread_active_count(), 1);
}
END_TEST

START_TEST(a_joined_handle_cannot_be_detached) {
    mtask_thread thread = {0};
    ck_assert_status(mtask_thread_start(&thread, return_arg, NULL), MTASK_OK);
    ck_assert_status(mtask_thread_join(&thread, NULL, MTASK_FOREVER), MTASK_OK);
    ck_assert_status(mtask_thread_detach(&thread), MTASK_INVALID);
}
END_TEST

START_TEST(is_alive_from_start_to_end) {
    mtask_thread thread = {0};
    ck_assert(!mtask_thread_is_alive(&thread));
    ck_assert_status(mtask_thread_start(&thread, wait_at_gate, NULL), MTASK_OK);
    ck_assert(mtask_thread_is_alive(&thread));
    open_and_join(&thread);
    ck_assert(!mtask_thread_is_alive(&thread));
}
END_TEST

START_TEST(a_spawned_thread_runs_by_itself) {
    mtask_event_clear(&gate);
    ck_assert_status(mtask_thread_spawn(wait_at_gate, NULL), MTASK_OK);
    ck_assert_uint_eq(mtask_thread_active_count(), 2);
    ck_assert_status(mtask_thread_join_all(MTASK_NOWAIT), MTASK_TIMEOUT);
    mtask_event_set(&gate);
    ck_assert_status(mtask_thread_join_all(MTASK_FOREVER), MTASK_OK);
    ck_assert_uint_eq(mtask_thread_active_count(), 1);
}
END_TEST

/* ---- what a description says ---- */

static mtask_thread_info seen_inside; /* what the thread saw of itself */

static void *look_at_myself(void *arg) {
    seen_inside = mtask_thread_current();
    return arg;
}

START_TEST(start_ex_without_a_handle_fires_and_forgets) {
    mtask_thread_desc desc = {0};
    desc.fn = look_at_myself;
    desc.name = "forgotten";
    ck_assert_status(mtask_thread_start_ex(NULL, &desc), MTASK_OK);
    ck_assert_status(mtask_thread_join_all(MTASK_FOREVER), MTASK_OK);
    ck_assert_str_eq(seen_inside.name, "forgotten");
}
END_TEST

START_TEST(the_name_is_copied_and_known_inside_and_outside) {
    mtask_thread thread = {0};
    mtask_thread_desc desc = {0};
    char name[] = "reader";
    desc.fn = look_at_myself;
    desc.name = name;
    ck_assert_status(mtask_thread_start_ex(&thread, &desc), MTASK_OK);
    memset(name, 'x', sizeof name - 1);
    ck_assert_status(mtask_thread_join(&thread, NULL, MTASK_FOREVER), MTASK_OK);
    ck_assert_str_eq(seen_inside.name, "reader");
    ck_assert_str_eq(mtask_thread_name(&thread), "reader"); /* also of a joined one */
}
END_TEST

static char name_in_system[64];

static void *look_at_system_name(void *arg) {
    system_name(gettid_here(), name_in_system);
    return arg;
}

START_TEST(the_system_sees_the_first_15_bytes_of_the_name) {
    mtask_thread thread = {0};
    mtask_thread_desc desc = {0};
    desc.fn = look_at_system_name;
    desc.name = "abcdefghijklmnopqrstuvw";
    ck_assert_status(mtask_thread_start_ex(&thread, &desc), MTASK_OK);
    ck_assert_status(mtask_thread_join(&thread, NULL, MTASK_FOREVER), MTASK_OK);
    ck_assert_str_eq(name_in_system, "abcdefghijklmno");
    ck_assert_str_eq(mtask_thread_name(&thread), "abcdefghijklmnopqrstuvw");
}
END_TEST

START_TEST(a_long_name_is_cut_to_its_room) {
    mtask_thread thread = {0};
    mtask_thread_desc desc = {0};
    char name[MTASK_NAME_SIZE + 9];
    memset(name, 'n', sizeof name);
    name[sizeof name - 1] = 0;
    desc.fn = look_at_myself;
    desc.name = name;
    ck_assert_status(mtask_thread_start_ex(&thread, &desc), MTASK_OK);
    ck_assert_status(mtask_thread_join(&thread, NULL, MTASK_FOREVER), MTASK_OK);
    ck_assert_uint_eq(strlen(seen_inside.name), MTASK_NAME_SIZE - 1);
    ck_assert_mem_eq(seen_inside.name, name, MTASK_NAME_SIZE - 1);
}
END_TEST

START_TEST(default_names_are_numbered_and_unique) {
    enum { N = 20 };
    static mtask_thread threads[N];
    static char names[N][MTASK_NAME_SIZE];
    for (int i = 0; i < N; i++) {
        int number = 0, end = 0;
        ck_assert_status(mtask_thread_start(&threads[i], wait_at_gate, NULL), MTASK_OK);
        snprintf(names[i], MTASK_NAME_SIZE, "%s", mtask_thread_name(&threads[i]));
        ck_assert_msg(sscanf(names[i], "Thread-%d%n", &number, &end) == 1 && number > 0 &&
                          names[i][end] == 0,
                      "'%s' is not Thread-N", names[i]);
        for (int j = 0; j < i; j++)
            ck_assert_str_ne(names[i], names[j]);
    }
    for (int i = 0; i < N; i++)
        open_and_join(&threads[i]);
}
END_TEST

START_TEST(daemon_is_as_described) {
    mtask_thread thread = {0};
    mtask_thread_desc desc = {0};
    desc.fn = look_at_myself;
    ck_assert_status(mtask_thread_start_ex(&thread, &desc), MTASK_OK);
    ck_assert_status(mtask_thread_join(&thread, NULL, MTASK_FOREVER), MTASK_OK);
    ck_assert(!seen_inside.daemon);
    desc.daemon = true;
    ck_assert_status(mtask_thread_start_ex(&thread, &desc), MTASK_OK);
    ck_assert_status(mtask_thread_join(&thread, NULL, MTASK_FOREVER), MTASK_OK);
    ck_assert(seen_inside.daemon);
}
END_TEST

static void *measure_stack(void *arg) {
    pthread_attr_t attr;
    size_t *size = (size_t *)arg;
    testing_check(pthread_getattr_np(pthread_self(), &attr) == 0);
    testing_check(pthread_attr_getstacksize(&attr, size) == 0);
    pthread_attr_destroy(&attr);
    return NULL;
}

/* The stack size of a thread for which `asked` bytes were asked. */
static size_t stack_for(size_t asked) {
    mtask_thread thread = {0};
    mtask_thread_desc desc = {0};
    size_t size = 0;
    desc.fn = measure_stack;
    desc.arg = &size;
    desc.stack_size = asked;
    ck_assert_status(mtask_thread_start_ex(&thread, &desc), MTASK_OK);
    ck_assert_status(mtask_thread_join(&thread, NULL, MTASK_FOREVER), MTASK_OK);
    return size;
}

START_TEST(the_stack_is_as_large_as_asked) {
    /* From small to large, since the C library may give a larger stack that it has in stock. */
    static const size_t sizes[] = {1, 2 << 20, (5 << 20) + 1, 24 << 20};
    size_t last = 0;
    for (int i = 0; i < 4; i++) {
        size_t size = stack_for(sizes[i]);
        ck_assert_uint_ge(size, sizes[i]);
        ck_assert_uint_gt(size, last);
        last = size;
    }
}
END_TEST

static void *use_much_stack(void *arg) {
    volatile char bytes[3 << 20];
    for (size_t i = 0; i < sizeof bytes; i += 4096)
        bytes[i] = (char)i;
    return bytes[4096] == 0 ? arg : NULL;
}

START_TEST(a_large_stack_can_be_used) {
    mtask_thread thread = {0};
    mtask_thread_desc desc = {0};
    mtask_outcome outcome;
    desc.fn = use_much_stack;
    desc.arg = &thread;
    desc.stack_size = 4 << 20;
    ck_assert_status(mtask_thread_start_ex(&thread, &desc), MTASK_OK);
    ck_assert_status(mtask_thread_join(&thread, &outcome, MTASK_FOREVER), MTASK_OK);
    ck_assert_ptr_eq(outcome.value, &thread);
}
END_TEST

static cpu_set_t cpus_inside;

static void *look_at_cpus(void *arg) {
    testing_check(sched_getaffinity(0, sizeof cpus_inside, &cpus_inside) == 0);
    return arg;
}

START_TEST(a_thread_runs_only_on_the_cpus_it_was_given) {
    mtask_thread thread = {0};
    mtask_thread_desc desc = {0};
    cpu_set_t allowed;
    ck_assert_int_eq(sched_getaffinity(0, sizeof allowed, &allowed), 0);
    for (unsigned cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (!CPU_ISSET(cpu, &allowed))
            continue;
        desc.fn = look_at_cpus;
        desc.cpus = &cpu;
        desc.cpu_count = 1;
        ck_assert_status(mtask_thread_start_ex(&thread, &desc), MTASK_OK);
        ck_assert_status(mtask_thread_join(&thread, NULL, MTASK_FOREVER), MTASK_OK);
        ck_assert_int_eq(CPU_COUNT(&cpus_inside), 1);
        ck_assert(CPU_ISSET(cpu, &cpus_inside));
    }
    ck_assert_status(mtask_thread_start(&thread, look_at_cpus, NULL), MTASK_OK);
    ck_assert_status(mtask_thread_join(&thread, NULL, MTASK_FOREVER), MTASK_OK);
    ck_assert(CPU_EQUAL(&cpus_inside, &allowed)); /* the creator's is the default */
}
END_TEST

START_TEST(cpus_that_do_not_exist_are_refused) {
    static const unsigned cpus[] = {CPU_SETSIZE - 1, CPU_SETSIZE, 1000000, UINT32_MAX};
    mtask_thread thread = {0};
    mtask_thread_desc desc = {0};
    desc.fn = return_arg;
    desc.cpu_count = 1;
    for (size_t i = 0; i < sizeof cpus / sizeof cpus[0]; i++) {
        desc.cpus = &cpus[i];
        ck_assert_status(mtask_thread_start_ex(&thread, &desc), MTASK_SYSTEM);
        ck_assert(!mtask_thread_is_alive(&thread));
        ck_assert_uint_eq(mtask_thread_active_count(), 1);
        ck_assert_status(mtask_thread_join(&thread, NULL, MTASK_NOWAIT), MTASK_INVALID);
    }
    ck_assert_status(mtask_thread_start(&thread, return_arg, NULL), MTASK_OK);
    ck_assert_status(mtask_thread_join(&thread, NULL, MTASK_FOREVER), MTASK_OK);
}
END_TEST

/* ---- a future on a thread's result ---- */

static void *fail_as_told(void *arg) {
    return mtask_fail(MTASK_NOT_FOUND, "no %s", (const char *)arg);
}

START_TEST(the_future_of_a_thread_has_its_outcome) {
    mtask_thread thread = {0};
    mtask_thread_desc desc = {0};
    mtask_future *future = NULL;
    mtask_outcome outcome;
    desc.fn = wait_at_gate;
    desc.arg = &thread;
    desc.future = &future;
    ck_assert_status(mtask_thread_start_ex(&thread, &desc), MTASK_OK);
    ck_assert_ptr_nonnull(future);
    ck_assert_status(mtask_future_get(future, NULL, MTASK_MS(2)), MTASK_TIMEOUT);
    ck_assert(!mtask_future_done(future));
    mtask_event_set(&gate);
    ck_assert_status(mtask_future_get(future, &outcome, MTASK_FOREVER), MTASK_OK);
    ck_assert_ptr_eq(outcome.value, &thread);
    ck_assert_status(mtask_thread_join(&thread, &outcome, MTASK_FOREVER), MTASK_OK);
    ck_assert_ptr_eq(outcome.value, &thread);
    mtask_future_release(future);
}
END_TEST

START_TEST(the_future_of_a_thread_tells_its_failure) {
    mtask_thread_desc desc = {0};
    mtask_future *future = NULL;
    mtask_outcome outcome;
    char what[] = "bread";
    desc.fn = fail_as_told;
    desc.arg = what;
    desc.future = &future;
    ck_assert_status(mtask_thread_start_ex(NULL, &desc), MTASK_OK);
    ck_assert_status(mtask_future_get(future, &outcome, MTASK_FOREVER), MTASK_FAILED);
    ck_assert_status(outcome.status, MTASK_NOT_FOUND);
    ck_assert_str_eq(outcome.text, "no bread");
    ck_assert_ptr_null(outcome.value);
    mtask_future_release(future);
    ck_assert_status(mtask_thread_join_all(MTASK_FOREVER), MTASK_OK);
}
END_TEST

START_TEST(the_future_of_a_thread_may_be_released_at_once) {
    for (int i = 0; i < 50; i++) {
        mtask_thread thread = {0};
        mtask_thread_desc desc = {0};
        mtask_future *future = NULL;
        desc.fn = return_arg;
        desc.future = &future;
        ck_assert_status(mtask_thread_start_ex(&thread, &desc), MTASK_OK);
        mtask_future_release(future);
        ck_assert_status(mtask_thread_join(&thread, NULL, MTASK_FOREVER), MTASK_OK);
    }
}
END_TEST

START_TEST(a_running_thread_cannot_be_cancelled) {
    mtask_thread thread = {0};
    mtask_thread_desc desc = {0};
    mtask_future *future = NULL;
    desc.fn = wait_at_gate;
    desc.future = &future;
    ck_assert_status(mtask_thread_start_ex(&thread, &desc), MTASK_OK);
    while (!mtask_future_running(future))
        ck_assert_status(mtask_sleep(MTASK_US(100)), MTASK_OK);
    ck_assert_status(mtask_future_cancel(future), MTASK_INVALID);
    open_and_join(&thread);
    ck_assert(!mtask_future_canceled(future));
    mtask_future_release(future);
}
END_TEST

static mtask_word ran_anyway;

static void *note_that_it_ran(void *arg) {
    mtask_word_store(&ran_anyway, 1);
    return arg;
}

/* Whether cancelling a thread that has just been started came in time; checks that all agree. */
static bool cancel_just_started(void) {
    mtask_thread thread = {0};
    mtask_thread_desc desc = {0};
    mtask_future *future = NULL;
    mtask_outcome outcome;
    mtask_status cancel, join;
    mtask_word_store(&ran_anyway, 0);
    desc.fn = note_that_it_ran;
    desc.future = &future;
    ck_assert_status(mtask_thread_start_ex(&thread, &desc), MTASK_OK);
    cancel = mtask_future_cancel(future);
    join = mtask_thread_join(&thread, &outcome, MTASK_FOREVER);
    if (cancel != MTASK_OK)
        ck_assert_status(cancel, MTASK_INVALID);
    ck_assert_uint_eq(mtask_word_load(&ran_anyway), cancel == MTASK_OK ? 0 : 1);
    ck_assert_status(join, cancel == MTASK_OK ? MTASK_CANCELED : MTASK_OK);
    ck_assert_status(outcome.status, join);
    ck_assert_status(mtask_future_get(future, &outcome, MTASK_NOWAIT), join);
    ck_assert(mtask_future_canceled(future) == (cancel == MTASK_OK));
    mtask_future_release(future);
    return cancel == MTASK_OK;
}

START_TEST(a_thread_cancelled_before_it_runs_never_runs) {
    cpu_set_t allowed, one;
    int cancelled = 0;
    ck_assert_int_eq(sched_getaffinity(0, sizeof allowed, &allowed), 0);
    CPU_ZERO(&one);
    for (unsigned cpu = 0; CPU_COUNT(&one) == 0; cpu++) {
        if (CPU_ISSET(cpu, &allowed))
            CPU_SET(cpu, &one);
    }
    for (int i = 0; i < 200; i++) {
        /* On one CPU the new thread mostly runs later than the cancel, on several at once. */
        ck_assert_int_eq(sched_setaffinity(0, sizeof one, i % 2 ? &allowed : &one), 0);
        cancelled += cancel_just_started();
    }
    ck_assert_int_gt(cancelled, 0);
}
END_TEST

/* ---- failures ---- */

/* The outcome of fn(arg) run in a thread; `join` receives what join returned. */
static mtask_outcome outcome_of(mtask_fn fn, void *arg, mtask_status *join) {
    mtask_thread thread = {0};
    mtask_outcome outcome;
    memset(&outcome, 0x5a, sizeof outcome);
    ck_assert_status(mtask_thread_start(&thread, fn, arg), MTASK_OK);
    *join = mtask_thread_join(&thread, &outcome, MTASK_FOREVER);
    return outcome;
}

START_TEST(a_failure_has_a_status_and_a_text) {
    char what[] = "door";
    mtask_status join;
    mtask_outcome outcome = outcome_of(fail_as_told, what, &join);
    ck_assert_status(join, MTASK_FAILED);
    ck_assert_status(outcome.status, MTASK_NOT_FOUND);
    ck_assert_str_eq(outcome.text, "no door");
    ck_assert_ptr_null(outcome.value);
}
END_TEST

static void *open_the_safe(int tries) {
    if (tries == 0)
        return mtask_fail(MTASK_AUTH, "wrong after %d %s", 3, "tries");
    return open_the_safe(tries - 1);
}

static void *rob_the_bank(void *arg) {
    void *money = open_the_safe(3);
    return money != arg ? money : NULL;
}

START_TEST(a_failure_passes_through_helper_functions) {
    mtask_status join;
    mtask_outcome outcome = outcome_of(rob_the_bank, NULL, &join);
    ck_assert_status(join, MTASK_FAILED);
    ck_assert_status(outcome.status, MTASK_AUTH);
    ck_assert_str_eq(outcome.text, "wrong after 3 tries");
}
END_TEST

static void *fail_with_ok(void *arg) {
    (void)arg;
    return mtask_fail(MTASK_OK, NULL);
}

START_TEST(a_failure_with_ok_and_without_a_text_is_a_failure) {
    mtask_status join;
    mtask_outcome outcome = outcome_of(fail_with_ok, NULL, &join);
    ck_assert_status(join, MTASK_FAILED);
    ck_assert_status(outcome.status, MTASK_FAILED);
    ck_assert_str_eq(outcome.text, "");
    ck_assert_ptr_null(outcome.value);
}
END_TEST

static void *fail_at_length(void *arg) {
    return mtask_fail(MTASK_FULL, "%s", (const char *)arg);
}

START_TEST(a_long_text_is_cut_to_its_room) {
    char text[2 * MTASK_TEXT_SIZE];
    mtask_status join;
    mtask_outcome outcome;
    memset(text, 't', sizeof text);
    for (size_t length = MTASK_TEXT_SIZE - 2; length < MTASK_TEXT_SIZE + 2; length++) {
        size_t kept = length < MTASK_TEXT_SIZE ? length : MTASK_TEXT_SIZE - 1;
        text[length] = 0;
        outcome = outcome_of(fail_at_length, text, &join);
        text[length] = 't';
        ck_assert_status(join, MTASK_FAILED);
        ck_assert_uint_eq(strlen(outcome.text), kept);
        ck_assert_mem_eq(outcome.text, text, kept);
    }
}
END_TEST

static void *fail_and_recover(void *arg) {
    (void)mtask_fail(MTASK_BROKEN, "not that bad");
    return arg;
}

START_TEST(a_task_that_recovers_from_a_failure_is_ok) {
    int value = 0;
    mtask_status join;
    mtask_outcome outcome = outcome_of(fail_and_recover, &value, &join);
    ck_assert_status(join, MTASK_OK);
    ck_assert_status(outcome.status, MTASK_OK);
    ck_assert_ptr_eq(outcome.value, &value);
    ck_assert_str_eq(outcome.text, "");
}
END_TEST

static void *fail_with_given_status(void *arg) {
    return mtask_fail(*(mtask_status *)arg, NULL);
}

START_TEST(every_join_calls_a_failure_a_failure_whatever_its_status) {
    for (int i = 1; i < MTASK_STATUS_COUNT; i++) {
        mtask_status status = (mtask_status)i; /* also CANCELED, TIMEOUT, INVALID, ... */
        mtask_thread thread = {0};
        mtask_outcome outcome;
        ck_assert_status(mtask_thread_start(&thread, fail_with_given_status, &status), MTASK_OK);
        for (int join = 0; join < 2; join++) {
            ck_assert_status(mtask_thread_join(&thread, &outcome, MTASK_FOREVER), MTASK_FAILED);
            ck_assert_status(outcome.status, status);
        }
    }
}
END_TEST

static void *fail_twice(void *arg) {
    (void)arg;
    (void)mtask_fail(MTASK_EMPTY, "the first, which is a long one");
    return mtask_fail(MTASK_CLOSED, "second");
}

START_TEST(the_last_failure_counts) {
    mtask_status join;
    mtask_outcome outcome = outcome_of(fail_twice, NULL, &join);
    ck_assert_status(join, MTASK_FAILED);
    ck_assert_status(outcome.status, MTASK_CLOSED);
    ck_assert_str_eq(outcome.text, "second");
}
END_TEST

static void *fail_with_errno(void *arg) {
    void *failure;
    (void)arg;
    errno = EXDEV;
    failure = mtask_fail(MTASK_SYSTEM, "%s", "x");
    testing_check(errno == EXDEV);
    errno = ENOTTY;
    failure = mtask_fail(MTASK_SYSTEM, NULL);
    testing_check(errno == ENOTTY);
    return failure;
}

START_TEST(failing_keeps_errno) {
    mtask_status join;
    mtask_outcome outcome = outcome_of(fail_with_errno, NULL, &join);
    ck_assert_status(join, MTASK_FAILED);
    ck_assert_status(outcome.status, MTASK_SYSTEM);
}
END_TEST

static void *fail_then_start_another(void *arg) {
    mtask_outcome other;
    mtask_status join;
    void *failure = mtask_fail(MTASK_EMPTY, "mine");
    other = outcome_of(fail_as_told, arg, &join);
    ck_assert_status(join, MTASK_FAILED);
    testing_check(strcmp(other.text, "no tea") == 0);
    return failure;
}

START_TEST(failures_of_different_threads_do_not_mix) {
    char what[] = "tea";
    mtask_status join;
    mtask_outcome outcome = outcome_of(fail_then_start_another, what, &join);
    ck_assert_status(join, MTASK_FAILED);
    ck_assert_status(outcome.status, MTASK_EMPTY);
    ck_assert_str_eq(outcome.text, "mine");
}
END_TEST

/* ---- identity ---- */

START_TEST(the_main_thread_knows_itself) {
    mtask_thread_info current = mtask_thread_current(), main_thread = mtask_thread_main();
    ck_assert_uint_ne(current.id, 0);
    ck_assert_uint_eq(current.id, mtask_task_id());
    ck_assert_uint_eq(current.id, main_thread.id);
    ck_assert(current.main && current.alive && !current.daemon);
    ck_assert(current.foreign); /* mtask did not start it */
    ck_assert(main_thread.main && main_thread.alive && main_thread.foreign);
    ck_assert_str_eq(current.name, "MainThread");
    ck_assert_str_eq(main_thread.name, "MainThread");
    ck_assert_int_eq(current.native_id, gettid_here());
}
END_TEST

static int64_t tid_inside;
static uint64_t task_id_inside, main_id_inside;

static void *look_at_ids(void *arg) {
    seen_inside = mtask_thread_current();
    tid_inside = gettid_here();
    task_id_inside = mtask_task_id();
    main_id_inside = mtask_thread_main().id;
    return arg;
}

START_TEST(a_thread_knows_itself) {
    mtask_thread thread = {0};
    uint64_t before, main_id = mtask_task_id();
    ck_assert_uint_eq(mtask_thread_id(&thread), 0);
    ck_assert_status(mtask_thread_start(&thread, look_at_ids, NULL), MTASK_OK);
    before = mtask_thread_id(&thread);
    ck_assert_status(mtask_thread_join(&thread, NULL, MTASK_FOREVER), MTASK_OK);
    ck_assert_uint_ne(before, 0);
    ck_assert_uint_eq(mtask_thread_id(&thread), before); /* also of a joined one */
    ck_assert_uint_eq(seen_inside.id, before);
    ck_assert_uint_eq(task_id_inside, before);
    ck_assert_uint_eq(main_id_inside, main_id);
    ck_assert_uint_ne(before, main_id);
    ck_assert(seen_inside.alive && !seen_inside.main && !seen_inside.foreign);
    ck_assert_int_eq(seen_inside.native_id, tid_inside);
}
END_TEST

static int compare_ids(const void *a, const void *b) {
    uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;
    return (left > right) - (left < right);
}

static void *store_my_id(void *arg) {
    *(uint64_t *)arg = mtask_task_id();
    return NULL;
}

START_TEST(ids_are_never_zero_and_never_used_twice) {
    enum { N = 400 };
    static uint64_t ids[N + 1];
    ids[N] = mtask_task_id();
    for (int i = 0; i < N; i += 4) {
        mtask_thread threads[4] = {0};
        for (int j = 0; j < 4; j++)
            ck_assert_status(mtask_thread_start(&threads[j], store_my_id, &ids[i + j]), MTASK_OK);
        for (int j = 0; j < 4; j++)
            ck_assert_status(mtask_thread_join(&threads[j], NULL, MTASK_FOREVER), MTASK_OK);
    }
    qsort(ids, N + 1, sizeof ids[0], compare_ids);
    ck_assert_uint_ne(ids[0], 0);
    for (int i = 0; i < N; i++)
        ck_assert_uint_ne(ids[i], ids[i + 1]);
}
END_TEST

/* ---- threads that mtask did not start ---- */

typedef struct foreign_thread {
    pthread_t thread;
    mtask_event known, leave;
    mtask_thread_info info;
    uint64_t task_id, main_id;
} foreign_thread;

static void *be_foreign(void *arg) {
    foreign_thread *self = (foreign_thread *)arg;
    self->info = mtask_thread_current();
    self->task_id = mtask_task_id();
    self->main_id = mtask_thread_main().id;
    mtask_event_set(&self->known);
    ck_assert_status(mtask_event_wait(&self->leave, MTASK_FOREVER), MTASK_OK);
    return NULL;
}

static void start_foreign(foreign_thread *foreign) {
    memset(foreign, 0, sizeof *foreign);
    ck_assert_int_eq(pthread_create(&foreign->thread, NULL, be_foreign, foreign), 0);
    ck_assert_status(mtask_event_wait(&foreign->known, MTASK_FOREVER), MTASK_OK);
}

static void end_foreign(foreign_thread *foreign) {
    mtask_event_set(&foreign->leave);
    ck_assert_int_eq(pthread_join(foreign->thread, NULL), 0);
}

START_TEST(a_foreign_thread_is_known_while_it_lives) {
    foreign_thread foreign;
    mtask_thread_info found;
    uint64_t main_id = mtask_task_id();
    start_foreign(&foreign);
    ck_assert(foreign.info.foreign && foreign.info.alive && !foreign.info.main);
    ck_assert_uint_ne(foreign.info.id, 0);
    ck_assert_uint_eq(foreign.info.id, foreign.task_id);
    ck_assert_uint_eq(foreign.main_id, main_id);
    ck_assert_int_eq(strncmp(foreign.info.name, "Dummy-", 6), 0);
    ck_assert_uint_eq(mtask_thread_active_count(), 2);
    ck_assert(find_thread(foreign.info.id, &found));
    ck_assert(found.foreign && found.alive);
    ck_assert_str_eq(found.name, foreign.info.name);
    end_foreign(&foreign);
    ck_assert_uint_eq(mtask_thread_active_count(), 1);
    ck_assert(!find_thread(foreign.info.id, &found));
}
END_TEST

START_TEST(foreign_threads_have_names_and_ids_of_their_own) {
    foreign_thread first, second;
    start_foreign(&first);
    start_foreign(&second);
    ck_assert_uint_ne(first.info.id, second.info.id);
    ck_assert_str_ne(first.info.name, second.info.name);
    ck_assert_uint_eq(mtask_thread_active_count(), 3);
    end_foreign(&first);
    end_foreign(&second);
    ck_assert_uint_eq(mtask_thread_active_count(), 1);
}
END_TEST

static void *never_call_mtask(void *arg) {
    return arg;
}

START_TEST(a_thread_that_never_calls_mtask_is_not_counted) {
    pthread_t thread;
    ck_assert_int_eq(pthread_create(&thread, NULL, never_call_mtask, NULL), 0);
    ck_assert_uint_eq(mtask_thread_active_count(), 1);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    ck_assert_uint_eq(mtask_thread_active_count(), 1);
}
END_TEST

START_TEST(a_foreign_thread_cannot_be_attached_to) {
    foreign_thread foreign;
    mtask_thread thread = {0};
    start_foreign(&foreign);
    ck_assert_status(mtask_thread_attach(&thread, foreign.info.id), MTASK_INVALID);
    ck_assert(!mtask_thread_is_alive(&thread));
    end_foreign(&foreign);
    ck_assert_status(mtask_thread_attach(&thread, foreign.info.id), MTASK_NOT_FOUND);
}
END_TEST

START_TEST(join_all_does_not_wait_for_foreign_threads) {
    foreign_thread foreign;
    start_foreign(&foreign);
    ck_assert_status(mtask_thread_join_all(MTASK_FOREVER), MTASK_OK);
    end_foreign(&foreign);
}
END_TEST

static void *start_one_from_abroad(void *arg) {
    mtask_thread thread = {0};
    mtask_outcome outcome;
    ck_assert_status(mtask_thread_start(&thread, return_arg, arg), MTASK_OK);
    ck_assert_status(mtask_thread_join(&thread, &outcome, MTASK_FOREVER), MTASK_OK);
    return outcome.value;
}

START_TEST(a_foreign_thread_can_start_and_join) {
    pthread_t thread;
    void *value = NULL;
    int here = 0;
    ck_assert_int_eq(pthread_create(&thread, NULL, start_one_from_abroad, &here), 0);
    ck_assert_int_eq(pthread_join(thread, &value), 0);
    ck_assert_ptr_eq(value, &here);
    ck_assert_uint_eq(mtask_thread_active_count(), 1);
}
END_TEST

/* ---- enumerate, set_name, attach ---- */

START_TEST(enumerate_lists_those_alive) {
    mtask_thread threads[2] = {0};
    mtask_thread_desc desc = {0};
    mtask_thread_info infos[8], found;
    size_t count = 0;
    desc.fn = wait_at_gate;
    desc.name = "listed";
    desc.daemon = true;
    ck_assert_status(mtask_thread_start_ex(&threads[0], &desc), MTASK_OK);
    ck_assert_status(mtask_thread_start(&threads[1], wait_at_gate, NULL), MTASK_OK);
    ck_assert_status(mtask_thread_enumerate(infos, 8, &count), MTASK_OK);
    ck_assert_uint_eq(count, 3);
    ck_assert_uint_eq(mtask_thread_active_count(), 3);
    ck_assert(find_thread(mtask_thread_id(&threads[0]), &found));
    ck_assert(found.daemon && found.alive && !found.main && !found.foreign);
    ck_assert_str_eq(found.name, "listed");
    ck_assert(find_thread(mtask_thread_id(&threads[1]), &found));
    ck_assert(!found.daemon && found.alive);
    ck_assert(find_thread(mtask_thread_main().id, &found));
    ck_assert(found.main);
    open_and_join(&threads[0]);
    ck_assert(!find_thread(mtask_thread_id(&threads[0]), &found));
    open_and_join(&threads[1]);
}
END_TEST

START_TEST(enumerate_fills_what_fits_and_tells_how_many_there_are) {
    mtask_thread threads[3] = {0};
    mtask_thread_info infos[5];
    size_t count = 0;
    for (int i = 0; i < 3; i++)
        ck_assert_status(mtask_thread_start(&threads[i], wait_at_gate, NULL), MTASK_OK);
    memset(infos, 0x5a, sizeof infos);
    ck_assert_status(mtask_thread_enumerate(infos, 2, &count), MTASK_OVERFLOW);
    ck_assert_uint_eq(count, 4);
    ck_assert_uint_ne(infos[0].id, infos[1].id);
    ck_assert_int_eq(infos[2].name[0], 0x5a); /* not touched */
    ck_assert_status(mtask_thread_enumerate(NULL, 0, &count), MTASK_OVERFLOW);
    ck_assert_uint_eq(count, 4);
    ck_assert_status(mtask_thread_enumerate(infos, 4, &count), MTASK_OK);
    ck_assert_status(mtask_thread_enumerate(infos, 4, NULL), MTASK_OK);
    for (int i = 0; i < 3; i++)
        open_and_join(&threads[i]);
}
END_TEST

static mtask_event renamed;

static void *rename_myself(void *arg) {
    ck_assert_status(mtask_thread_set_name(NULL, "chosen"), MTASK_OK);
    seen_inside = mtask_thread_current();
    system_name(gettid_here(), name_in_system);
    mtask_event_set(&renamed);
    return wait_at_gate(arg);
}

START_TEST(a_thread_can_rename_itself) {
    mtask_thread thread = {0};
    ck_assert_status(mtask_thread_start(&thread, rename_myself, NULL), MTASK_OK);
    ck_assert_status(mtask_event_wait(&renamed, MTASK_FOREVER), MTASK_OK);
    ck_assert_str_eq(seen_inside.name, "chosen");
    ck_assert_str_eq(name_in_system, "chosen");
    ck_assert_str_eq(mtask_thread_name(&thread), "chosen");
    open_and_join(&thread);
    ck_assert_str_eq(mtask_thread_name(&thread), "chosen");
}
END_TEST

static void *look_then_wait(void *arg) {
    tid_inside = gettid_here();
    mtask_event_set(&renamed);
    wait_at_gate(arg);
    seen_inside = mtask_thread_current();
    return arg;
}

START_TEST(a_thread_can_be_renamed_from_outside) {
    mtask_thread thread = {0};
    mtask_thread_info found;
    ck_assert_status(mtask_thread_start(&thread, look_then_wait, NULL), MTASK_OK);
    ck_assert_status(mtask_event_wait(&renamed, MTASK_FOREVER), MTASK_OK);
    ck_assert_status(mtask_thread_set_name(&thread, "a-name-longer-than-15"), MTASK_OK);
    ck_assert_str_eq(mtask_thread_name(&thread), "a-name-longer-than-15");
    ck_assert(find_thread(mtask_thread_id(&thread), &found));
    ck_assert_str_eq(found.name, "a-name-longer-than-15");
    system_name(tid_inside, name_in_system);
    ck_assert_str_eq(name_in_system, "a-name-longer-t");
    open_and_join(&thread);
    ck_assert_str_eq(seen_inside.name, "a-name-longer-than-15");
}
END_TEST

START_TEST(set_name_cuts_long_names_and_refuses_none) {
    mtask_thread thread = {0};
    char name[MTASK_NAME_SIZE + 5];
    memset(name, 'r', sizeof name);
    name[sizeof name - 1] = 0;
    ck_assert_status(mtask_thread_set_name(&thread, "nobody"), MTASK_INVALID);
    ck_assert_status(mtask_thread_set_name(NULL, NULL), MTASK_INVALID);
    ck_assert_status(mtask_thread_set_name(NULL, name), MTASK_OK);
    ck_assert_uint_eq(strlen(mtask_thread_current().name), MTASK_NAME_SIZE - 1);
    ck_assert_uint_eq(strlen(mtask_thread_main().name), MTASK_NAME_SIZE - 1);
}
END_TEST

START_TEST(attach_finds_a_living_thread_by_its_id) {
    mtask_thread thread = {0}, attached = {0}, found_again = {0};
    mtask_outcome outcome;
    int value = 0;
    ck_assert_status(mtask_thread_start(&thread, wait_at_gate, &value), MTASK_OK);
    ck_assert_status(mtask_thread_attach(&attached, mtask_thread_id(&thread)), MTASK_OK);
    ck_assert_uint_eq(mtask_thread_id(&attached), mtask_thread_id(&thread));
    ck_assert(mtask_thread_is_alive(&attached));
    ck_assert_str_eq(mtask_thread_name(&attached), mtask_thread_name(&thread));
    ck_assert_status(mtask_thread_attach(&attached, mtask_thread_id(&thread)), MTASK_INVALID);
    ck_assert_status(mtask_thread_attach(&found_again, mtask_thread_id(&thread)), MTASK_OK);
    ck_assert_status(mtask_thread_detach(&found_again), MTASK_OK);
    mtask_event_set(&gate);
    ck_assert_status(mtask_thread_join(&attached, &outcome, MTASK_FOREVER), MTASK_OK);
    ck_assert_ptr_eq(outcome.value, &value);
    ck_assert_status(mtask_thread_join(&thread, &outcome, MTASK_FOREVER), MTASK_OK);
    ck_assert_ptr_eq(outcome.value, &value);
}
END_TEST

START_TEST(attach_joins_a_thread_that_was_only_spawned) {
    mtask_thread thread = {0};
    mtask_thread_info infos[4];
    mtask_outcome outcome;
    size_t count = 0, other;
    int value = 0;
    ck_assert_status(mtask_thread_spawn(wait_at_gate, &value), MTASK_OK);
    ck_assert_status(mtask_thread_enumerate(infos, 4, &count), MTASK_OK);
    ck_assert_uint_eq(count, 2);
    other = infos[0].main ? 1 : 0;
    ck_assert_status(mtask_thread_attach(&thread, infos[other].id), MTASK_OK);
    mtask_event_set(&gate);
    ck_assert_status(mtask_thread_join(&thread, &outcome, MTASK_FOREVER), MTASK_OK);
    ck_assert_ptr_eq(outcome.value, &value);
}
END_TEST

START_TEST(main_cannot_be_attached_to) {
    mtask_thread thread = {0};
    ck_assert_status(mtask_thread_attach(&thread, mtask_thread_main().id), MTASK_INVALID);
    ck_assert_uint_eq(mtask_thread_id(&thread), 0);
}
END_TEST

START_TEST(attach_does_not_find_the_dead) {
    mtask_thread thread = {0}, attached = {0};
    ck_assert_status(mtask_thread_start(&thread, return_arg, NULL), MTASK_OK);
    ck_assert_status(mtask_thread_join(&thread, NULL, MTASK_FOREVER), MTASK_OK);
    ck_assert_status(mtask_thread_attach(&attached, mtask_thread_id(&thread)), MTASK_NOT_FOUND);
    ck_assert_status(mtask_thread_attach(&attached, 0), MTASK_NOT_FOUND);
    ck_assert_uint_eq(mtask_thread_id(&attached), 0);
}
END_TEST

/* ---- join_all ---- */

START_TEST(join_all_with_nobody_there_returns_at_once) {
    ck_assert_status(mtask_thread_join_all(MTASK_NOWAIT), MTASK_OK);
    ck_assert_status(mtask_thread_join_all(MTASK_FOREVER), MTASK_OK);
    ck_assert_status(mtask_thread_join_all(-1), MTASK_INVALID);
}
END_TEST

static mtask_word finished; /* counts the ends of threads */

static void *finish_late(void *arg) {
    ck_assert_status(mtask_sleep(MTASK_MS(5)), MTASK_OK);
    mtask_word_add(&finished, 1);
    return arg;
}

START_TEST(join_all_waits_for_all_and_leaves_handles_to_join) {
    mtask_thread thread = {0};
    mtask_outcome outcome;
    int value = 0;
    ck_assert_status(mtask_thread_start(&thread, finish_late, &value), MTASK_OK);
    for (int i = 0; i < 4; i++)
        ck_assert_status(mtask_thread_spawn(finish_late, NULL), MTASK_OK);
    ck_assert_status(mtask_thread_join_all(MTASK_FOREVER), MTASK_OK);
    ck_assert_uint_eq(mtask_word_load(&finished), 5);
    ck_assert(!mtask_thread_is_alive(&thread));
    ck_assert_status(mtask_thread_join(&thread, &outcome, MTASK_NOWAIT), MTASK_OK);
    ck_assert_ptr_eq(outcome.value, &value);
}
END_TEST

static void *spawn_a_chain(void *arg) {
    int *left = (int *)arg;
    ck_assert_status(mtask_sleep(MTASK_MS(1)), MTASK_OK);
    if (--*left > 0)
        ck_assert_status(mtask_thread_spawn(spawn_a_chain, left), MTASK_OK);
    mtask_word_add(&finished, 1);
    return NULL;
}

START_TEST(join_all_waits_for_those_spawned_meanwhile) {
    int left = 12;
    ck_assert_status(mtask_thread_spawn(spawn_a_chain, &left), MTASK_OK);
    ck_assert_status(mtask_thread_join_all(MTASK_FOREVER), MTASK_OK);
    ck_assert_uint_eq(mtask_word_load(&finished), 12);
}
END_TEST

START_TEST(join_all_stops_when_its_time_is_up) {
    mtask_thread thread = {0};
    int64_t before;
    ck_assert_status(mtask_thread_start(&thread, wait_at_gate, NULL), MTASK_OK);
    before = mtask_now();
    ck_assert_status(mtask_thread_join_all(MTASK_MS(15)), MTASK_TIMEOUT);
    ck_assert_int_ge(mtask_now() - before, MTASK_MS(15));
    ck_assert_status(mtask_thread_join_all(MTASK_NOWAIT), MTASK_TIMEOUT);
    mtask_event_set(&gate);
    ck_assert_status(mtask_thread_join_all(MTASK_SEC(60)), MTASK_OK);
    ck_assert_status(mtask_thread_join(&thread, NULL, MTASK_FOREVER), MTASK_OK);
}
END_TEST

START_TEST(join_all_does_not_wait_for_daemons) {
    mtask_thread thread = {0};
    mtask_thread_desc desc = {0};
    desc.fn = wait_at_gate;
    desc.daemon = true;
    ck_assert_status(mtask_thread_start_ex(&thread, &desc), MTASK_OK);
    ck_assert_status(mtask_thread_join_all(MTASK_FOREVER), MTASK_OK);
    ck_assert(mtask_thread_is_alive(&thread));
    open_and_join(&thread);
}
END_TEST

static void *join_all_from_inside(void *arg) {
    ck_assert_status(mtask_thread_join_all(MTASK_FOREVER), MTASK_OK);
    testing_check(mtask_word_load(&finished) == 2);
    return arg;
}

START_TEST(join_all_waits_neither_for_its_caller_nor_for_main) {
    mtask_thread thread = {0};
    ck_assert_status(mtask_thread_spawn(finish_late, NULL), MTASK_OK);
    ck_assert_status(mtask_thread_spawn(finish_late, NULL), MTASK_OK);
    ck_assert_status(mtask_thread_start(&thread, join_all_from_inside, NULL), MTASK_OK);
    ck_assert_status(mtask_thread_join(&thread, NULL, MTASK_FOREVER), MTASK_OK);
}
END_TEST

static void *count_the_end(void *arg) {
    mtask_word_add(&finished, 1);
    return arg;
}

START_TEST(join_all_waits_for_pending_timers) {
    static mtask_timer timers[3];
    for (int i = 0; i < 3; i++)
        ck_assert_status(mtask_timer_start(&timers[i], MTASK_MS(5 * i), count_the_end, NULL),
                         MTASK_OK);
    ck_assert_status(mtask_thread_join_all(MTASK_FOREVER), MTASK_OK);
    ck_assert_uint_eq(mtask_word_load(&finished), 3);
}
END_TEST

static void *run_in_timer(void *arg) {
    mtask_event_set(&renamed);
    wait_at_gate(arg);
    return count_the_end(arg);
}

START_TEST(join_all_waits_for_a_timer_that_runs) {
    static mtask_timer timer;
    ck_assert_status(mtask_timer_start(&timer, 0, run_in_timer, NULL), MTASK_OK);
    ck_assert_status(mtask_event_wait(&renamed, MTASK_FOREVER), MTASK_OK);
    ck_assert_status(mtask_thread_join_all(MTASK_MS(5)), MTASK_TIMEOUT);
    mtask_event_set(&gate);
    ck_assert_status(mtask_thread_join_all(MTASK_FOREVER), MTASK_OK);
    ck_assert_uint_eq(mtask_word_load(&finished), 1);
}
END_TEST

static void *spawn_from_timer(void *arg) {
    ck_assert_status(mtask_thread_spawn(finish_late, NULL), MTASK_OK);
    return arg;
}

START_TEST(join_all_waits_for_a_thread_that_a_timer_spawned) {
    static mtask_timer timer;
    ck_assert_status(mtask_timer_start(&timer, MTASK_MS(2), spawn_from_timer, NULL), MTASK_OK);
    ck_assert_status(mtask_thread_join_all(MTASK_FOREVER), MTASK_OK);
    ck_assert_uint_eq(mtask_word_load(&finished), 1);
}
END_TEST

START_TEST(join_all_does_not_wait_for_a_cancelled_timer) {
    static mtask_timer timer;
    ck_assert_status(mtask_timer_start(&timer, MTASK_SEC(3600), count_the_end, NULL), MTASK_OK);
    ck_assert_status(mtask_thread_join_all(MTASK_MS(2)), MTASK_TIMEOUT);
    ck_assert_status(mtask_timer_cancel(&timer, MTASK_NOWAIT), MTASK_OK);
    ck_assert_status(mtask_thread_join_all(MTASK_FOREVER), MTASK_OK);
    ck_assert_uint_eq(mtask_word_load(&finished), 0);
}
END_TEST

static mtask_timer cancelled_from_outside;

static void *cancel_the_timer(void *arg) {
    ck_assert_status(mtask_sleep(MTASK_MS(5)), MTASK_OK);
    ck_assert_status(mtask_timer_cancel(&cancelled_from_outside, MTASK_FOREVER), MTASK_OK);
    return arg;
}

START_TEST(join_all_notices_that_the_last_timer_is_cancelled) {
    mtask_thread_desc desc = {0};
    desc.fn = cancel_the_timer;
    desc.daemon = true;
    ck_assert_status(
        mtask_timer_start(&cancelled_from_outside, MTASK_SEC(3600), count_the_end, NULL), MTASK_OK);
    ck_assert_status(mtask_thread_start_ex(NULL, &desc), MTASK_OK);
    ck_assert_status(mtask_thread_join_all(MTASK_FOREVER), MTASK_OK);
}
END_TEST

static void *join_all_briefly(void *arg) {
    mtask_status *status = (mtask_status *)arg;
    *status = mtask_thread_join_all(MTASK_SEC(5));
    return count_the_end(NULL);
}

START_TEST(join_all_in_a_timer_does_not_wait_for_this_timer) {
    static mtask_timer timer;
    static mtask_status status = MTASK_FAILED;
    ck_assert_status(mtask_timer_start(&timer, 0, join_all_briefly, &status), MTASK_OK);
    ck_assert_status(mtask_thread_join_all(MTASK_FOREVER), MTASK_OK);
    ck_assert_uint_eq(mtask_word_load(&finished), 1);
    ck_assert_status(status, MTASK_OK);
}
END_TEST

/* ---- nothing is left behind ---- */

/* The size of the process's memory, in bytes of address space. */
static long long address_space(void) {
    long long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    ck_assert_ptr_nonnull(file);
    ck_assert_int_eq(fscanf(file, "%lld", &pages), 1);
    fclose(file);
    return pages * sysconf(_SC_PAGESIZE);
}

/* Starts a thread and gives it back in one of the possible ways. */
static void start_and_give_back(int way) {
    mtask_thread *thread = (mtask_thread *)calloc(1, sizeof *thread);
    ck_assert_ptr_nonnull(thread);
    if (way == 0) {
        ck_assert_status(mtask_thread_spawn(return_arg, NULL), MTASK_OK);
    } else {
        ck_assert_status(mtask_thread_start(thread, return_arg, NULL), MTASK_OK);
        if (way == 1)
            ck_assert_status(mtask_thread_detach(thread), MTASK_OK);
        else
            ck_assert_status(mtask_thread_join(thread, NULL, MTASK_FOREVER), MTASK_OK);
    }
    free(thread); /* at once: nobody may still look at it */
    if (way < 2)
        ck_assert_status(mtask_thread_join_all(MTASK_FOREVER), MTASK_OK);
}

START_TEST(a_thousand_threads_leave_nothing_behind) {
    int threads, fds;
    long long memory;
    for (int i = 0; i < 30; i++)
        start_and_give_back(i % 3); /* whatever is made once, is made now */
    threads = count_entries("/proc/self/task");
    fds = count_entries("/proc/self/fd");
    memory = address_space();
    for (long i = testing_scale(1000); i > 0; i--)
        start_and_give_back((int)(i % 3));
    ck_assert_uint_eq(mtask_thread_active_count(), 1);
    ck_assert_int_eq(count_entries("/proc/self/fd"), fds);
    ck_assert(threads_are_gone(threads));
#if !TESTING_ASAN && !TESTING_TSAN /* their own memory grows */
    ck_assert_int_lt(address_space() - memory, 256LL << 20);
#else
    (void)memory;
#endif
}
END_TEST

/* ---- all at once ---- */

static uint64_t stress_seed;
static mtask_word stress_started, stress_ran, stress_stop;

static void *count_a_run(void *arg) {
    mtask_word_add(&stress_ran, 1);
    return arg;
}

/* Starts one thread and treats it in a random way. */
static void stress_one(testing_random *random) {
    mtask_thread thread = {0}, attached = {0};
    mtask_outcome outcome;
    uint64_t way = testing_below(random, 4);
    ck_assert_status(mtask_thread_start(&thread, count_a_run, &thread), MTASK_OK);
    mtask_word_add(&stress_started, 1);
    if (way == 0)
        testing_check(mtask_thread_set_name(&thread, "renamed") == MTASK_OK);
    if (way == 1 && mtask_thread_attach(&attached, mtask_thread_id(&thread)) == MTASK_OK)
        ck_assert_status(mtask_thread_detach(&attached), MTASK_OK);
    if (way == 2) {
        ck_assert_status(mtask_thread_detach(&thread), MTASK_OK);
        return;
    }
    ck_assert_status(mtask_thread_join(&thread, &outcome, MTASK_FOREVER), MTASK_OK);
    testing_check(outcome.value == &thread);
}

static void *stress_threads(void *arg) {
    testing_random random = testing_random_make(stress_seed, (unsigned)(uintptr_t)arg);
    for (long i = testing_scale(400); i > 0; i--)
        stress_one(&random);
    return NULL;
}

static void *stress_lookers(void *arg) {
    mtask_thread_info infos[16];
    size_t count;
    while (mtask_word_load(&stress_stop) == 0) {
        mtask_status status = mtask_thread_enumerate(infos, 16, &count);
        testing_check(status == MTASK_OK || status == MTASK_OVERFLOW);
        for (size_t i = 0; i < count && i < 16; i++) {
            testing_check(infos[i].id != 0 && infos[i].alive && infos[i].name[0] != 0);
            for (size_t j = 0; j < i; j++)
                testing_check(infos[i].id != infos[j].id);
        }
        ck_assert_status(mtask_sleep(MTASK_US(200)), MTASK_OK);
    }
    return arg;
}

START_TEST(starting_joining_detaching_and_looking_race_without_harm) {
    mtask_thread workers[3] = {0}, looker = {0};
    mtask_thread_desc desc = {0};
    stress_seed = testing_seed();
    desc.fn = stress_lookers;
    desc.daemon = true;
    ck_assert_status(mtask_thread_start_ex(&looker, &desc), MTASK_OK);
    for (uintptr_t i = 0; i < 3; i++)
        ck_assert_status(mtask_thread_start(&workers[i], stress_threads, (void *)i), MTASK_OK);
    for (int i = 0; i < 3; i++)
        ck_assert_status(mtask_thread_join(&workers[i], NULL, MTASK_FOREVER), MTASK_OK);
    ck_assert_status(mtask_thread_join_all(MTASK_FOREVER), MTASK_OK);
    mtask_word_store(&stress_stop, 1);
    ck_assert_status(mtask_thread_join(&looker, NULL, MTASK_FOREVER), MTASK_OK);
    ck_assert_uint_eq(mtask_word_load(&stress_ran), mtask_word_load(&stress_started));
    ck_assert_uint_eq(mtask_thread_active_count(), 1);
}
END_TEST

static mtask_thread common; /* a handle that several use at once */

/* Asks everything of the common handle until its thread has ended, then joins it. */
static void *use_common_handle(void *arg) {
    uint64_t id = mtask_thread_id(&common);
    mtask_outcome outcome;
    mtask_status status;
    testing_check(id != 0);
    do {
        testing_check(mtask_thread_id(&common) == id);
        (void)mtask_thread_is_alive(&common);
        status = mtask_thread_set_name(&common, "common"); /* INVALID once somebody has joined */
        testing_check(status == MTASK_OK || status == MTASK_INVALID);
        status = mtask_thread_join(&common, &outcome, MTASK_US(20));
        testing_check(status == MTASK_OK || status == MTASK_TIMEOUT);
    } while (status != MTASK_OK);
    testing_check(outcome.value == &common && !mtask_thread_is_alive(&common));
    testing_check(mtask_thread_id(&common) == id);
    return arg;
}

START_TEST(several_may_use_one_handle_at_once) {
    mtask_thread users[4] = {0};
    for (long round = testing_scale(60); round > 0; round--) {
        mtask_event_clear(&gate);
        ck_assert_status(mtask_thread_start(&common, wait_at_gate, &common), MTASK_OK);
        for (int i = 0; i < 4; i++)
            ck_assert_status(mtask_thread_start(&users[i], use_common_handle, NULL), MTASK_OK);
        ck_assert_status(mtask_sleep(MTASK_US(200)), MTASK_OK);
        mtask_event_set(&gate);
        for (int i = 0; i < 4; i++)
            ck_assert_status(mtask_thread_join(&users[i], NULL, MTASK_FOREVER), MTASK_OK);
    }
}
END_TEST

TESTING_MAIN(
    "thread", join_tells_what_the_thread_returned, a_null_value_is_no_failure,
    start_refuses_no_function, start_refuses_a_handle_that_has_a_thread,
    a_handle_starts_again_after_join_and_after_detach, join_refuses_what_was_never_started,
    join_refuses_a_negative_timeout, join_gives_up_in_time_and_can_be_tried_again,
    later_joins_tell_the_same, several_join_at_once_and_all_learn_the_outcome,
    joining_oneself_is_refused, a_detached_handle_has_no_thread, a_joined_handle_cannot_be_detached,
    is_alive_from_start_to_end, a_spawned_thread_runs_by_itself,
    start_ex_without_a_handle_fires_and_forgets, the_name_is_copied_and_known_inside_and_outside,
    the_system_sees_the_first_15_bytes_of_the_name, a_long_name_is_cut_to_its_room,
    default_names_are_numbered_and_unique, daemon_is_as_described, the_stack_is_as_large_as_asked,
    a_large_stack_can_be_used, a_thread_runs_only_on_the_cpus_it_was_given,
    cpus_that_do_not_exist_are_refused, the_future_of_a_thread_has_its_outcome,
    the_future_of_a_thread_tells_its_failure, the_future_of_a_thread_may_be_released_at_once,
    a_running_thread_cannot_be_cancelled, a_thread_cancelled_before_it_runs_never_runs,
    a_failure_has_a_status_and_a_text, a_failure_passes_through_helper_functions,
    a_failure_with_ok_and_without_a_text_is_a_failure, a_long_text_is_cut_to_its_room,
    a_task_that_recovers_from_a_failure_is_ok,
    every_join_calls_a_failure_a_failure_whatever_its_status, the_last_failure_counts,
    failing_keeps_errno, failures_of_different_threads_do_not_mix, the_main_thread_knows_itself,
    a_thread_knows_itself, ids_are_never_zero_and_never_used_twice,
    a_foreign_thread_is_known_while_it_lives, foreign_threads_have_names_and_ids_of_their_own,
    a_thread_that_never_calls_mtask_is_not_counted, a_foreign_thread_cannot_be_attached_to,
    join_all_does_not_wait_for_foreign_threads, a_foreign_thread_can_start_and_join,
    enumerate_lists_those_alive, enumerate_fills_what_fits_and_tells_how_many_there_are,
    a_thread_can_rename_itself, a_thread_can_be_renamed_from_outside,
    set_name_cuts_long_names_and_refuses_none, attach_finds_a_living_thread_by_its_id,
    attach_joins_a_thread_that_was_only_spawned, main_cannot_be_attached_to,
    attach_does_not_find_the_dead, join_all_with_nobody_there_returns_at_once,
    join_all_waits_for_all_and_leaves_handles_to_join, join_all_waits_for_those_spawned_meanwhile,
    join_all_stops_when_its_time_is_up, join_all_does_not_wait_for_daemons,
    join_all_waits_neither_for_its_caller_nor_for_main, join_all_waits_for_pending_timers,
    join_all_waits_for_a_timer_that_runs, join_all_waits_for_a_thread_that_a_timer_spawned,
    join_all_does_not_wait_for_a_cancelled_timer, join_all_notices_that_the_last_timer_is_cancelled,
    join_all_in_a_timer_does_not_wait_for_this_timer, a_thousand_threads_leave_nothing_behind,
    starting_joining_detaching_and_looking_race_without_harm, several_may_use_one_handle_at_once)
