/* test_mtask_pool.c - pools: how they are made and how they end, their threads, fork */
#include "testing_pool.h"

#include <sys/wait.h>

/* The sanitizers do not support all that a child of a process with threads may do: there such
   children start no threads. */
#define CHILDREN_MAY_DO_ALL (!TESTING_TSAN && !TESTING_ASAN)

/* Threads of the parent that nobody can join in the child are no leak. */
const char *__tsan_default_options(void);
const char *__tsan_default_options(void) {
    return "die_after_fork=0:report_thread_leaks=0";
}

/* ---- helpers ---- */

static mtask_pool *make(const mtask_pool_desc *desc) {
    mtask_pool *pool = NULL;
    ck_assert_status(mtask_pool_create(&pool, desc), MTASK_OK);
    ck_assert_ptr_nonnull(pool);
    return pool;
}

static mtask_future *submit(mtask_pool *pool, mtask_fn fn, void *arg) {
    mtask_future *future = NULL;
    ck_assert_status(mtask_pool_submit(pool, fn, arg, &future), MTASK_OK);
    ck_assert_ptr_nonnull(future);
    return future;
}

/* Waits for a task that succeeds, and returns its value. */
static void *result(mtask_future *future) {
    mtask_outcome outcome;
    ck_assert_status(mtask_future_get(future, &outcome, MTASK_FOREVER), MTASK_OK);
    mtask_future_release(future);
    return outcome.value;
}

static void *run_in(mtask_pool *pool, mtask_fn fn, void *arg) {
    return result(submit(pool, fn, arg));
}

static void *return_arg(void *arg) {
    return arg;
}

static void *fail_always(void *arg) {
    (void)arg;
    return mtask_fail(MTASK_NOT_FOUND, "nothing there");
}

static void *count_one(void *arg) {
    mtask_word_add((mtask_word *)arg, 1);
    return NULL;
}

static mtask_event gate;
static mtask_word at_gate; /* how many have come there */

static void *wait_at_gate(void *arg) {
    mtask_word_add(&at_gate, 1);
    ck_assert_status(mtask_event_wait(&gate, MTASK_FOREVER), MTASK_OK);
    return arg;
}

static mtask_pool_stats stats_of(mtask_pool *pool) {
    mtask_pool_stats stats;
    memset(&stats, 0x5a, sizeof stats);
    ck_assert_status(mtask_pool_get_stats(pool, &stats, NULL, 0), MTASK_OK);
    return stats;
}

/* Returns when all threads of the pool have nothing to do. */
static void await_idle(mtask_pool *pool) {
    for (;;) {
        mtask_pool_stats stats = stats_of(pool);
        if (stats.running == 0 && stats.pending == 0 && stats.idle == stats.threads &&
            stats.threads >= mtask_pool_workers(pool))
            return;
        testing_pause(1);
    }
}

/* How many threads the process has, as the system counts. */
static int count_threads(void) {
    char line[256];
    int threads = 0;
    FILE *file = fopen("/proc/self/status", "r");
    testing_check(file != NULL);
    while (fgets(line, sizeof line, file) != NULL)
        if (strncmp(line, "Threads:", 8) == 0)
            threads = atoi(line + 8);
    fclose(file);
    return threads;
}

/* What the threads of a pool wrote down when they began. */
typedef struct roll {
    mtask_mutex lock;
    unsigned count; /* of threads that have begun */
    unsigned left;  /* of threads that have ended */
    mtask_thread_info infos[TESTING_CROWD_MAX];
    char system_names[TESTING_CROWD_MAX][16];
    cpu_set_t cpus[TESTING_CROWD_MAX];
} roll;

static __thread bool enrolled;

static void *enroll(void *arg) {
    roll *r = (roll *)arg;
    enrolled = true;
    ck_assert_status(mtask_mutex_lock(&r->lock), MTASK_OK);
    testing_check(r->count < TESTING_CROWD_MAX);
    r->infos[r->count] = mtask_thread_current();
    testing_check(pthread_getname_np(pthread_self(), r->system_names[r->count], 16) == 0);
    testing_check(sched_getaffinity(0, sizeof(cpu_set_t), &r->cpus[r->count]) == 0);
    r->count++;
    ck_assert_status(mtask_mutex_unlock(&r->lock), MTASK_OK);
    return NULL;
}

static void leave(void *arg) {
    roll *r = (roll *)arg;
    testing_check(enrolled);
    enrolled = false;
    ck_assert_status(mtask_mutex_lock(&r->lock), MTASK_OK);
    r->left++;
    ck_assert_status(mtask_mutex_unlock(&r->lock), MTASK_OK);
}

static unsigned enrolled_count(roll *r) {
    unsigned count;
    ck_assert_status(mtask_mutex_lock(&r->lock), MTASK_OK);
    count = r->count;
    ck_assert_status(mtask_mutex_unlock(&r->lock), MTASK_OK);
    return count;
}

/* A pool whose threads have all been written down. */
static mtask_pool *make_enrolled(mtask_pool_desc desc, roll *r) {
    mtask_pool *pool;
    memset(r, 0, sizeof *r);
    desc.init = enroll;
    desc.deinit = leave;
    desc.ctx = r;
    pool = make(&desc);
    while (enrolled_count(r) < mtask_pool_workers(pool))
        testing_pause(1);
    return pool;
}

/* ---- making ---- */

START_TEST(a_pool_has_a_worker_for_each_cpu_by_default) {
    mtask_pool_desc zero = {0};
    mtask_pool *pool = make(NULL);
    ck_assert_uint_eq(mtask_pool_workers(pool), mtask_cpu_count());
    end_pool(pool);
    pool = make(&zero);
    ck_assert_uint_eq(mtask_pool_workers(pool), mtask_cpu_count());
    end_pool(pool);
}
END_TEST

START_TEST(a_pool_has_as_many_threads_as_asked_for) {
    for (unsigned workers = 1; workers <= 9; workers += 4) {
        mtask_pool *pool = open_pool(workers);
        ck_assert_uint_eq(mtask_pool_workers(pool), workers);
        await_idle(pool);
        ck_assert_uint_eq(stats_of(pool).threads, workers);
        ck_assert_ptr_eq(run_in(pool, return_arg, pool), pool);
        end_pool(pool);
    }
}
END_TEST

START_TEST(all_workers_run_tasks_at_once) {
    mtask_pool *pool = open_pool(7);
    for (int i = 0; i < 7; i++)
        ck_assert_status(mtask_pool_post(pool, wait_at_gate, NULL), MTASK_OK);
    await_word(&at_gate, 7);
    mtask_event_set(&gate);
    end_pool(pool);
}
END_TEST

START_TEST(descriptions_out_of_range_are_refused) {
    static const mtask_pool_desc bad[] = {
        {.workers = 1025},
        {.spare = 1025},
        {.jobs = ((size_t)1 << 24) + 1},
        {.cpus = NULL, .cpu_count = 1},
    };
    size_t before = mtask_thread_active_count();
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        mtask_pool *pool = NULL;
        ck_assert_status(mtask_pool_create(&pool, &bad[i]), MTASK_INVALID);
    }
    ck_assert_uint_eq(mtask_thread_active_count(), before);
}
END_TEST

START_TEST(descriptions_at_the_limits_are_taken) {
    mtask_pool_desc desc = {.workers = 2, .spare = 1024, .jobs = 1};
    mtask_pool *pool = make(&desc);
    ck_assert_ptr_eq(run_in(pool, return_arg, &desc), &desc);
    end_pool(pool);
    desc.jobs = (size_t)1 << 24;
    desc.backlog = SIZE_MAX;
    pool = make(&desc);
    ck_assert_ptr_eq(run_in(pool, return_arg, &desc), &desc);
    end_pool(pool);
}
END_TEST

START_TEST(a_pool_may_have_a_thousand_workers) {
    mtask_pool_desc desc = {.workers = 1024, .stack_size = 65536};
    mtask_pool *pool;
    mtask_word ran = 0;
    if (TESTING_TSAN || TESTING_ASAN) /* they take seconds for so many threads */
        return;
    pool = make(&desc);
    ck_assert_uint_eq(mtask_pool_workers(pool), 1024);
    for (int i = 0; i < 5000; i++)
        ck_assert_status(mtask_pool_post(pool, count_one, &ran), MTASK_OK);
    end_pool(pool);
    ck_assert_uint_eq(mtask_word_load(&ran), 5000);
}
END_TEST

/* Fails the test unless the threads are PREFIX-0 to PREFIX-(count - 1), each once. */
static void check_names(const roll *r, const char *prefix, unsigned count) {
    ck_assert_uint_eq(r->count, count);
    for (unsigned i = 0; i < count; i++) {
        char name[MTASK_NAME_SIZE];
        unsigned found = 0;
        snprintf(name, sizeof name, "%s-%u", prefix, i);
        for (unsigned j = 0; j < count; j++)
            if (strcmp(r->infos[j].name, name) == 0) {
                found++;
                ck_assert_int_eq(strncmp(r->system_names[j], name, 15), 0);
            }
        ck_assert_msg(found == 1, "%u threads are called %s", found, name);
    }
}

START_TEST(threads_are_called_after_the_pool) {
    char name[] = "crew";
    mtask_pool_desc desc = {.workers = 4, .name = name};
    roll r;
    mtask_pool *pool = make_enrolled(desc, &r);
    check_names(&r, "crew", 4);
    end_pool(pool);
}
END_TEST

START_TEST(pools_without_a_name_get_one_each) {
    mtask_pool_desc desc = {.workers = 2};
    unsigned numbers[2];
    for (int i = 0; i < 2; i++) {
        roll r;
        char prefix[MTASK_NAME_SIZE];
        mtask_pool *pool = make_enrolled(desc, &r);
        ck_assert_int_eq(sscanf(r.infos[0].name, "Pool-%u-", &numbers[i]), 1);
        snprintf(prefix, sizeof prefix, "Pool-%u", numbers[i]);
        check_names(&r, prefix, 2);
        end_pool(pool);
    }
    ck_assert_uint_ne(numbers[0], numbers[1]);
}
END_TEST

START_TEST(a_long_name_is_cut) {
    mtask_pool_desc desc = {.workers = 2,
                            .name = "a name that is far longer than what a thread may be called"};
    roll r;
    mtask_pool *pool = make_enrolled(desc, &r);
    for (int i = 0; i < 2; i++)
        ck_assert_int_eq(strncmp(r.infos[i].name, desc.name, 15), 0);
    end_pool(pool);
}
END_TEST

START_TEST(threads_of_a_pool_are_daemons) {
    mtask_pool_desc desc = {.workers = 3};
    roll r;
    mtask_pool *pool = make_enrolled(desc, &r);
    for (int i = 0; i < 3; i++) {
        ck_assert(r.infos[i].daemon);
        ck_assert(r.infos[i].alive);
        ck_assert(!r.infos[i].main);
    }
    ck_assert_status(mtask_pool_post(pool, wait_at_gate, NULL), MTASK_OK);
    ck_assert_status(mtask_thread_join_all(MTASK_FOREVER), MTASK_OK);
    mtask_event_set(&gate);
    end_pool(pool);
}
END_TEST

static void *stack_size_here(void *arg) {
    pthread_attr_t attr;
    testing_check(pthread_getattr_np(pthread_self(), &attr) == 0);
    testing_check(pthread_attr_getstacksize(&attr, (size_t *)arg) == 0);
    testing_check(pthread_attr_destroy(&attr) == 0);
    return arg;
}

START_TEST(threads_have_the_stack_asked_for) {
    for (size_t asked = (size_t)256 << 10; asked <= (size_t)64 << 20; asked *= 16) {
        mtask_pool_desc desc = {.workers = 1, .stack_size = asked};
        mtask_pool *pool = make(&desc);
        size_t size = 0;
        (void)run_in(pool, stack_size_here, &size);
        ck_assert_uint_ge(size, asked);
        if (!TESTING_TSAN && !TESTING_ASAN) /* they need room of their own */
            ck_assert_uint_le(size, 2 * asked);
        end_pool(pool);
    }
}
END_TEST

/* ---- CPUs ---- */

/* The CPUs that this process may use: their numbers, and how many of them, at most `capacity`. */
static size_t own_cpus(unsigned *cpus, size_t capacity) {
    cpu_set_t set;
    size_t count = 0;
    testing_check(sched_getaffinity(0, sizeof set, &set) == 0);
    for (unsigned cpu = 0; cpu < CPU_SETSIZE && count < capacity; cpu++)
        if (CPU_ISSET(cpu, &set))
            cpus[count++] = cpu;
    testing_check(count > 0);
    return count;
}

/* Whether the set holds exactly these. */
static bool holds_exactly(const cpu_set_t *set, const unsigned *cpus, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (!CPU_ISSET(cpus[i], set))
            return false;
    return CPU_COUNT(set) == (int)count;
}

/* The number at the end of a thread's name. */
static unsigned worker_number(const mtask_thread_info *info) {
    const char *dash = strrchr(info->name, '-');
    testing_check(dash != NULL);
    return (unsigned)strtoul(dash + 1, NULL, 10);
}

START_TEST(threads_run_where_their_creator_may_by_default) {
    mtask_pool_desc desc = {.workers = 3};
    cpu_set_t own;
    roll r;
    mtask_pool *pool = make_enrolled(desc, &r);
    testing_check(sched_getaffinity(0, sizeof own, &own) == 0);
    for (int i = 0; i < 3; i++)
        ck_assert(CPU_EQUAL(&r.cpus[i], &own));
    end_pool(pool);
}
END_TEST

START_TEST(threads_run_on_the_cpus_given_to_the_pool) {
    unsigned cpus[4];
    size_t count = own_cpus(cpus, 4);
    for (size_t take = 1; take <= count; take++) {
        mtask_pool_desc desc = {.workers = 3, .cpus = &cpus[count - take], .cpu_count = take};
        roll r;
        mtask_pool *pool = make_enrolled(desc, &r);
        for (int i = 0; i < 3; i++)
            ck_assert(holds_exactly(&r.cpus[i], desc.cpus, take));
        end_pool(pool);
    }
}
END_TEST

START_TEST(pinned_workers_have_one_cpu_each) {
    unsigned cpus[4];
    size_t count = own_cpus(cpus, 4);
    mtask_pool_desc desc = {.workers = 5, .cpus = cpus, .cpu_count = count, .pin = true};
    roll r;
    mtask_pool *pool = make_enrolled(desc, &r);
    for (int i = 0; i < 5; i++) {
        const unsigned *cpu = &cpus[worker_number(&r.infos[i]) % count];
        ck_assert(holds_exactly(&r.cpus[i], cpu, 1));
    }
    end_pool(pool);
}
END_TEST

START_TEST(cpus_that_do_not_exist_make_no_pool) {
    unsigned cpus[2] = {0, CPU_SETSIZE - 1};
    static roll r;
    mtask_pool_desc desc = {
        .workers = 2, .cpus = &cpus[1], .cpu_count = 1, .init = enroll, .deinit = leave, .ctx = &r};
    size_t before = mtask_thread_active_count();
    mtask_pool *pool = NULL;
    ck_assert_status(mtask_pool_create(&pool, &desc), MTASK_SYSTEM);
    desc.pin = true;
    ck_assert_status(mtask_pool_create(&pool, &desc), MTASK_SYSTEM);
    (void)own_cpus(cpus, 1); /* now the first worker can be started, and the second cannot */
    desc.cpus = cpus;
    desc.cpu_count = 2;
    ck_assert_status(mtask_pool_create(&pool, &desc), MTASK_SYSTEM);
    ck_assert_uint_eq(mtask_thread_active_count(), before);
    ck_assert_uint_eq(r.left, r.count);
}
END_TEST

/* ---- init and deinit ---- */

START_TEST(each_thread_begins_with_init_and_ends_with_deinit) {
    mtask_pool_desc desc = {.workers = 5};
    roll r;
    mtask_pool *pool = make_enrolled(desc, &r);
    ck_assert_uint_eq(r.count, 5);
    ck_assert_uint_eq(r.left, 0);
    end_pool(pool);
    ck_assert_uint_eq(r.count, 5);
    ck_assert_uint_eq(r.left, 5);
}
END_TEST

static void *check_enrolled(void *arg) {
    testing_check(enrolled);
    return arg;
}

START_TEST(tasks_run_where_init_has_run) {
    mtask_pool_desc desc = {.workers = 3};
    roll r;
    mtask_pool *pool = make_enrolled(desc, &r);
    for (int i = 0; i < 300; i++)
        ck_assert_status(mtask_pool_post(pool, check_enrolled, NULL), MTASK_OK);
    end_pool(pool);
}
END_TEST

START_TEST(init_runs_in_every_thread_of_a_pool_that_ends_at_once) {
    static roll r;
    mtask_pool_desc desc = {.workers = 4, .init = enroll, .deinit = leave, .ctx = &r};
    for (unsigned round = 1; round <= 20; round++) {
        end_pool(make(&desc));
        ck_assert_uint_eq(r.count, 4);
        ck_assert_uint_eq(r.left, 4);
        memset(&r, 0, sizeof r);
    }
}
END_TEST

static void *submit_and_wait(void *arg) {
    return run_in((mtask_pool *)arg, check_enrolled, arg);
}

/* A task that waits for one that runs: another thread takes over meanwhile. */
static void *wait_for_gate_task(void *arg) {
    mtask_future *future = (mtask_future *)arg;
    (void)result(future);
    return NULL;
}

START_TEST(init_runs_in_spare_threads_too) {
    mtask_pool_desc desc = {.workers = 2, .name = "crew"};
    roll r;
    mtask_pool *pool = make_enrolled(desc, &r);
    mtask_future *first = submit(pool, wait_at_gate, NULL);
    await_word(&at_gate, 1);
    ck_assert_status(mtask_pool_post(pool, wait_for_gate_task, first), MTASK_OK);
    (void)run_in(pool, submit_and_wait, pool); /* both workers are taken */
    ck_assert_uint_eq(enrolled_count(&r), 3);
    ck_assert_int_eq(strncmp(r.infos[2].name, "crew-", 5), 0);
    mtask_event_set(&gate);
    end_pool(pool);
    ck_assert_uint_eq(r.count, 3);
    ck_assert_uint_eq(r.left, 3);
}
END_TEST

START_TEST(a_description_may_go_when_the_pool_is_made) {
    unsigned cpus[1];
    char name[] = "crew";
    mtask_pool_desc desc = {.workers = 2, .name = name, .cpus = cpus};
    roll r;
    mtask_future *first;
    mtask_pool *pool;
    desc.cpu_count = own_cpus(cpus, 1);
    pool = make_enrolled(desc, &r);
    cpus[0] = CPU_SETSIZE - 1;
    memset(name, 'x', 4);
    first = submit(pool, wait_at_gate, NULL);
    await_word(&at_gate, 1);
    ck_assert_status(mtask_pool_post(pool, wait_for_gate_task, first), MTASK_OK);
    (void)run_in(pool, submit_and_wait, pool); /* in a spare thread, started now */
    ck_assert_uint_eq(enrolled_count(&r), 3);
    ck_assert_int_eq(strncmp(r.infos[2].name, "crew-", 5), 0);
    ck_assert(CPU_EQUAL(&r.cpus[2], &r.cpus[0]));
    mtask_event_set(&gate);
    end_pool(pool);
}
END_TEST

/* ---- an init that fails ---- */

typedef struct failing {
    mtask_word calls;
    mtask_word fails_from; /* the number of the first call that fails */
    mtask_word ended;      /* calls of deinit */
    mtask_event open;      /* calls that fail wait for it */
} failing;

static void *fail_to_begin(void *arg) {
    failing *f = (failing *)arg;
    mtask_word call = mtask_word_add(&f->calls, 1);
    if (call < f->fails_from)
        return NULL;
    ck_assert_status(mtask_event_wait(&f->open, MTASK_FOREVER), MTASK_OK);
    return mtask_fail(MTASK_AUTH, "no licence for %s", "this seat");
}

static void count_deinit(void *arg) {
    mtask_word_add(&((failing *)arg)->ended, 1);
}

static mtask_pool *make_failing(failing *f, unsigned workers, unsigned good) {
    mtask_pool_desc desc = {
        .workers = workers, .init = fail_to_begin, .deinit = count_deinit, .ctx = f, .backlog = 5};
    memset(f, 0, sizeof *f);
    f->fails_from = good;
    return make(&desc);
}

/* Returns when a pool whose init is going to fail has noticed it. */
static void await_broken(mtask_pool *pool) {
    mtask_task_desc task = {.fn = return_arg};
    while (mtask_pool_submit_ex(pool, &task, NULL, MTASK_NOWAIT) != MTASK_BROKEN)
        testing_pause(1);
}

static void check_broken(mtask_pool *pool) {
    mtask_task_desc task = {.fn = return_arg};
    mtask_future *future = NULL;
    ck_assert_status(mtask_pool_submit(pool, return_arg, NULL, &future), MTASK_BROKEN);
    ck_assert_status(mtask_pool_post(pool, return_arg, NULL), MTASK_BROKEN);
    ck_assert_status(mtask_pool_submit_ex(pool, &task, NULL, MTASK_FOREVER), MTASK_BROKEN);
    ck_assert_status(mtask_pool_close(pool), MTASK_BROKEN);
    ck_assert_status(mtask_pool_terminate(pool), MTASK_BROKEN);
    ck_assert_uint_eq(stats_of(pool).pending, 0);
}

static void end_broken(mtask_pool *pool) {
    check_broken(pool);
    ck_assert_status(mtask_pool_join(pool, MTASK_FOREVER), MTASK_BROKEN);
    ck_assert_status(mtask_pool_join(pool, MTASK_NOWAIT), MTASK_BROKEN);
    end_pool(pool);
}

/* A task of a pool that broke fails with what init failed with. */
static void check_broken_future(mtask_future *future) {
    mtask_outcome outcome;
    ck_assert_status(mtask_future_get(future, &outcome, MTASK_FOREVER), MTASK_FAILED);
    ck_assert_status(outcome.status, MTASK_BROKEN);
    ck_assert_str_eq(outcome.text, "no licence for this seat");
    ck_assert_ptr_null(outcome.value);
    mtask_future_release(future);
}

START_TEST(a_failing_init_breaks_the_pool) {
    for (unsigned workers = 1; workers <= 4; workers++) {
        failing f;
        mtask_pool *pool = make_failing(&f, workers, 0);
        mtask_event_set(&f.open);
        await_broken(pool);
        end_broken(pool);
        ck_assert_uint_eq(f.ended, 0);
    }
}
END_TEST

START_TEST(a_failing_init_fails_what_was_submitted_with_its_error) {
    failing f;
    mtask_pool *pool = make_failing(&f, 2, 0);
    mtask_future *futures[3];
    for (int i = 0; i < 3; i++)
        futures[i] = submit(pool, return_arg, NULL);
    mtask_event_set(&f.open);
    for (int i = 0; i < 3; i++)
        check_broken_future(futures[i]);
    await_broken(pool);
    end_broken(pool);
}
END_TEST

START_TEST(one_failing_init_breaks_the_pool_and_leaves_what_runs) {
    failing f;
    mtask_pool *pool = make_failing(&f, 3, 2);
    mtask_future *running[2], *pending;
    for (int i = 0; i < 2; i++)
        running[i] = submit(pool, wait_at_gate, &running[i]);
    await_word(&at_gate, 2);
    pending = submit(pool, return_arg, NULL);
    mtask_event_set(&f.open);
    check_broken_future(pending);
    await_broken(pool);
    check_broken(pool);
    mtask_event_set(&gate);
    for (int i = 0; i < 2; i++)
        ck_assert_ptr_eq(result(running[i]), &running[i]);
    end_broken(pool);
    ck_assert_uint_eq(f.ended, 2);
}
END_TEST

static void post_one(testing_member *self) {
    self->status = mtask_pool_post((mtask_pool *)self->arg, return_arg, NULL);
}

static void join_forever(testing_member *self) {
    self->status = mtask_pool_join((mtask_pool *)self->arg, MTASK_FOREVER);
}

static void join_for_a_minute(testing_member *self) {
    self->status = mtask_pool_join((mtask_pool *)self->arg, MTASK_SEC(60));
}

START_TEST(a_failing_init_wakes_those_who_wait_for_room) {
    failing f;
    testing_crowd crowd;
    mtask_pool *pool = make_failing(&f, 2, 0);
    for (int i = 0; i < 5; i++)
        ck_assert_status(mtask_pool_post(pool, return_arg, NULL), MTASK_OK);
    testing_crowd_start(&crowd, 3, post_one, pool);
    testing_crowd_await_asleep(&crowd, 3);
    mtask_event_set(&f.open);
    testing_crowd_join(&crowd);
    ck_assert_int_eq(testing_crowd_count(&crowd, MTASK_BROKEN), 3);
    end_pool(pool);
}
END_TEST

START_TEST(a_failing_init_wakes_those_who_join) {
    failing f;
    testing_crowd crowd;
    mtask_pool *pool = make_failing(&f, 2, 0);
    ck_assert_status(mtask_pool_close(pool), MTASK_OK);
    testing_crowd_start(&crowd, 2, join_forever, pool);
    (void)testing_crowd_add(&crowd, join_for_a_minute, pool);
    testing_crowd_await_asleep(&crowd, 3);
    mtask_event_set(&f.open);
    testing_crowd_join(&crowd);
    ck_assert_int_eq(testing_crowd_count(&crowd, MTASK_BROKEN), 3);
    end_pool(pool);
}
END_TEST

START_TEST(a_broken_pool_can_be_destroyed_at_once) {
    failing f;
    for (unsigned good = 0; good <= 3; good++) {
        mtask_pool *pool = make_failing(&f, 3, good);
        mtask_event_set(&f.open);
        end_pool(pool);
        ck_assert_uint_eq(f.ended, good);
    }
}
END_TEST

static void *call_mtask(void *arg) {
    mtask_pool *pool = NULL;
    (void)arg;
    ck_assert_status(mtask_pool_default(&pool), MTASK_OK);
    ck_assert_ptr_eq(run_in(NULL, return_arg, &gate), &gate);
    return &gate; /* dropped */
}

START_TEST(init_may_use_other_pools) {
    mtask_pool_desc desc = {.workers = 2, .init = call_mtask};
    mtask_pool *pool = make(&desc);
    ck_assert_ptr_eq(run_in(pool, return_arg, &desc), &desc);
    end_pool(pool);
}
END_TEST

/* ---- close, terminate, join, destroy ---- */

static void check_closed(mtask_pool *pool) {
    mtask_task_desc task = {.fn = return_arg};
    mtask_future *future = NULL;
    ck_assert_status(mtask_pool_submit(pool, return_arg, NULL, &future), MTASK_CLOSED);
    ck_assert_status(mtask_pool_post(pool, return_arg, NULL), MTASK_CLOSED);
    ck_assert_status(mtask_pool_submit_ex(pool, &task, &future, MTASK_NOWAIT), MTASK_CLOSED);
    ck_assert_status(mtask_pool_submit_ex(pool, &task, &future, MTASK_FOREVER), MTASK_CLOSED);
}

START_TEST(a_closed_pool_takes_nothing_and_does_what_it_has) {
    mtask_pool *pool = open_pool(1);
    mtask_word ran = 0;
    mtask_future *last;
    ck_assert_status(mtask_pool_post(pool, wait_at_gate, NULL), MTASK_OK);
    for (int i = 0; i < 10; i++)
        ck_assert_status(mtask_pool_post(pool, count_one, &ran), MTASK_OK);
    last = submit(pool, return_arg, &ran);
    ck_assert_status(mtask_pool_close(pool), MTASK_OK);
    check_closed(pool);
    ck_assert_status(mtask_pool_close(pool), MTASK_OK);
    mtask_event_set(&gate);
    ck_assert_status(mtask_pool_join(pool, MTASK_FOREVER), MTASK_OK);
    ck_assert_uint_eq(mtask_word_load(&ran), 10);
    ck_assert(mtask_future_done(last));
    ck_assert_ptr_eq(result(last), &ran);
    check_closed(pool);
    end_pool(pool);
}
END_TEST

START_TEST(a_terminated_pool_cancels_what_has_not_started) {
    mtask_pool *pool = open_pool(2);
    mtask_word ran = 0;
    mtask_future *running[2], *pending[5];
    mtask_outcome outcome;
    for (int i = 0; i < 2; i++)
        running[i] = submit(pool, wait_at_gate, &running[i]);
    await_word(&at_gate, 2);
    for (int i = 0; i < 5; i++)
        pending[i] = submit(pool, count_one, &ran);
    ck_assert_status(mtask_pool_post(pool, count_one, &ran), MTASK_OK);
    ck_assert_status(mtask_pool_terminate(pool), MTASK_OK);
    for (int i = 0; i < 5; i++) {
        ck_assert(mtask_future_canceled(pending[i])); /* already now */
        ck_assert_status(mtask_future_get(pending[i], &outcome, MTASK_NOWAIT), MTASK_CANCELED);
        mtask_future_release(pending[i]);
    }
    ck_assert_uint_eq(stats_of(pool).canceled, 6);
    ck_assert_uint_eq(stats_of(pool).pending, 0);
    for (int i = 0; i < 2; i++)
        ck_assert(mtask_future_running(running[i]));
    check_closed(pool);
    mtask_event_set(&gate);
    for (int i = 0; i < 2; i++)
        ck_assert_ptr_eq(result(running[i]), &running[i]);
    end_pool(pool);
    ck_assert_uint_eq(mtask_word_load(&ran), 0);
}
END_TEST

START_TEST(join_waits_for_all_and_can_be_repeated) {
    mtask_pool *pool = open_pool(2);
    int64_t start;
    ck_assert_status(mtask_pool_post(pool, wait_at_gate, NULL), MTASK_OK);
    ck_assert_status(mtask_pool_join(pool, MTASK_FOREVER), MTASK_INVALID); /* not closed */
    ck_assert_status(mtask_pool_join(pool, MTASK_NOWAIT), MTASK_INVALID);
    ck_assert_status(mtask_pool_close(pool), MTASK_OK);
    ck_assert_status(mtask_pool_join(pool, -1), MTASK_INVALID);
    ck_assert_status(mtask_pool_join(pool, MTASK_NOWAIT), MTASK_TIMEOUT);
    start = mtask_now();
    ck_assert_status(mtask_pool_join(pool, MTASK_MS(20)), MTASK_TIMEOUT);
    ck_assert_int_ge(mtask_now() - start, MTASK_MS(20));
    mtask_event_set(&gate);
    for (int i = 0; i < 3; i++)
        ck_assert_status(mtask_pool_join(pool, MTASK_FOREVER), MTASK_OK);
    ck_assert_status(mtask_pool_join(pool, MTASK_NOWAIT), MTASK_OK);
    ck_assert_status(mtask_pool_join(pool, -1), MTASK_INVALID);
    end_pool(pool);
}
END_TEST

START_TEST(threads_have_ended_when_join_returns) {
    size_t before = mtask_thread_active_count();
    int threads = count_threads();
    mtask_pool *pool = open_pool(5);
    await_idle(pool);
    ck_assert_uint_eq(mtask_thread_active_count(), before + 5);
    ck_assert_status(mtask_pool_close(pool), MTASK_OK);
    ck_assert_status(mtask_pool_join(pool, MTASK_FOREVER), MTASK_OK);
    ck_assert_uint_eq(mtask_thread_active_count(), before);
    while (count_threads() > threads + TESTING_TSAN) /* the system may see them for a moment more */
        testing_pause(1);
    end_pool(pool);
}
END_TEST

START_TEST(destroy_does_what_was_submitted_and_leaves_no_thread) {
    size_t before = mtask_thread_active_count();
    mtask_pool *pool = open_pool(3);
    mtask_word ran = 0;
    for (int i = 0; i < 1000; i++)
        ck_assert_status(mtask_pool_post(pool, count_one, &ran), MTASK_OK);
    end_pool(pool);
    ck_assert_uint_eq(mtask_word_load(&ran), 1000);
    ck_assert_uint_eq(mtask_thread_active_count(), before);
    ck_assert_status(mtask_pool_destroy(NULL), MTASK_OK);
}
END_TEST

static void destroy(testing_member *self) {
    self->status = mtask_pool_destroy((mtask_pool *)self->arg);
}

START_TEST(destroy_waits_for_tasks_that_run) {
    mtask_pool *pool = open_pool(2);
    mtask_future *running = submit(pool, wait_at_gate, &gate);
    testing_crowd crowd;
    await_word(&at_gate, 1);
    testing_crowd_start(&crowd, 1, destroy, pool);
    testing_await_asleep(&crowd.members[0]);
    ck_assert(mtask_future_running(running));
    mtask_event_set(&gate);
    testing_crowd_join(&crowd);
    ck_assert_status(crowd.members[0].status, MTASK_OK);
    ck_assert(mtask_future_done(running));
    ck_assert_ptr_eq(result(running), &gate); /* futures outlive the pool */
}
END_TEST

START_TEST(a_pool_can_be_destroyed_as_soon_as_it_is_made) {
    for (long round = 0; round < testing_scale(150); round++) {
        mtask_pool *pool = open_pool(1 + (unsigned)round % 4);
        mtask_future *future = round % 3 == 0 ? submit(pool, return_arg, pool) : NULL;
        if (round % 2 == 0)
            ck_assert_status(mtask_pool_terminate(pool), MTASK_OK);
        end_pool(pool);
        ck_assert(future == NULL || mtask_future_done(future));
        mtask_future_release(future);
    }
}
END_TEST

/* What is done to a pool, one thing after the other, in a test of all orders. */
typedef enum ending { NOTHING, CLOSE, TERMINATE, JOIN, ENDINGS } ending;

/* Does it, and fails the test unless it answers what it should. */
static void do_ending(mtask_pool *pool, ending what, bool closed, bool busy) {
    switch (what) {
    case CLOSE:
        ck_assert_status(mtask_pool_close(pool), MTASK_OK);
        break;
    case TERMINATE:
        ck_assert_status(mtask_pool_terminate(pool), MTASK_OK);
        break;
    case JOIN:
        ck_assert_status(mtask_pool_join(pool, busy ? MTASK_US(200) : MTASK_FOREVER),
                         !closed ? MTASK_INVALID
                         : busy  ? MTASK_TIMEOUT
                                 : MTASK_OK);
        break;
    default:
        break;
    }
}

/* Ends a pool in this order, with destroy last; if it is busy, a task runs and another waits. */
static void check_order(const ending *order, size_t count, bool busy) {
    mtask_pool *pool = open_pool(1);
    mtask_future *running = NULL, *pending = NULL;
    bool closed = false, canceled = false;
    mtask_event_clear(&gate);
    mtask_word_store(&at_gate, 0);
    if (busy) {
        running = submit(pool, wait_at_gate, &gate);
        await_word(&at_gate, 1);
        pending = submit(pool, return_arg, &gate);
    }
    for (size_t i = 0; i < count; i++) {
        do_ending(pool, order[i], closed, busy);
        closed |= order[i] == CLOSE || order[i] == TERMINATE;
        canceled |= order[i] == TERMINATE;
        if (closed)
            ck_assert_status(mtask_pool_post(pool, return_arg, NULL), MTASK_CLOSED);
        ck_assert(!busy || mtask_future_canceled(pending) == canceled);
    }
    mtask_event_set(&gate);
    end_pool(pool);
    if (busy) {
        ck_assert_ptr_eq(result(running), &gate);
        ck_assert(mtask_future_done(pending));
        ck_assert(mtask_future_canceled(pending) == canceled);
        mtask_future_release(pending);
    }
}

START_TEST(a_pool_can_be_ended_in_any_order) {
    for (int i = 0; i < ENDINGS * ENDINGS * ENDINGS; i++) {
        ending order[3] = {(ending)(i % ENDINGS), (ending)(i / ENDINGS % ENDINGS),
                           (ending)(i / ENDINGS / ENDINGS)};
        check_order(order, 3, false);
        check_order(order, 3, true);
    }
}
END_TEST

/* Submits, closes, terminates and joins at random. */
typedef struct melee {
    mtask_pool *pool;
    uint64_t seed;
    mtask_word ran;
    mtask_word taken;
} melee;

static void meddle(testing_member *self) {
    melee *m = (melee *)self->arg;
    testing_random random = testing_random_make(m->seed, (unsigned)self->index);
    for (int i = 0; i < 40; i++) {
        mtask_status status = MTASK_OK;
        uint64_t what = testing_below(&random, 64);
        if (what < 48) {
            status = mtask_pool_post(m->pool, count_one, &m->ran);
            mtask_word_add(&m->taken, status == MTASK_OK);
            testing_check(status == MTASK_OK || status == MTASK_CLOSED);
        } else if (what < 50) {
            ck_assert_status(mtask_pool_close(m->pool), MTASK_OK);
        } else if (what < 51) {
            ck_assert_status(mtask_pool_terminate(m->pool), MTASK_OK);
        } else {
            status = mtask_pool_join(m->pool, MTASK_US((int64_t)testing_below(&random, 300)));
            testing_check(status == MTASK_OK || status == MTASK_TIMEOUT || status == MTASK_INVALID);
        }
    }
}

START_TEST(a_pool_can_be_ended_by_several_threads_at_once) {
    melee m = {0};
    m.seed = testing_seed();
    for (long round = 0; round < testing_scale(100); round++, m.seed++) {
        testing_crowd crowd;
        mtask_pool_stats stats;
        mtask_pool_desc desc = {.workers = 2, .backlog = round % 2 == 0 ? 3 : 0};
        mtask_word_store(&m.ran, 0);
        mtask_word_store(&m.taken, 0);
        m.pool = make(&desc);
        testing_crowd_start(&crowd, 4, meddle, &m);
        testing_crowd_join(&crowd);
        ck_assert_status(mtask_pool_close(m.pool), MTASK_OK);
        ck_assert_status(mtask_pool_join(m.pool, MTASK_FOREVER), MTASK_OK);
        stats = stats_of(m.pool);
        ck_assert_uint_eq(stats.submitted, m.taken);
        ck_assert_uint_eq(stats.done, m.ran);
        ck_assert_uint_eq(stats.done + stats.canceled, stats.submitted);
        end_pool(m.pool);
    }
}
END_TEST

START_TEST(several_may_join_and_all_are_told) {
    mtask_pool *pool = open_pool(2);
    testing_crowd crowd;
    ck_assert_status(mtask_pool_post(pool, wait_at_gate, NULL), MTASK_OK);
    ck_assert_status(mtask_pool_close(pool), MTASK_OK);
    testing_crowd_start(&crowd, 3, join_forever, pool);
    for (int i = 0; i < 2; i++)
        (void)testing_crowd_add(&crowd, join_for_a_minute, pool);
    testing_check_idle(&crowd.members[0]);
    testing_crowd_await_asleep(&crowd, 5);
    ck_assert_status(mtask_pool_terminate(pool), MTASK_OK); /* that alone ends nothing */
    testing_crowd_await_asleep(&crowd, 5);
    mtask_event_set(&gate);
    testing_crowd_join(&crowd);
    ck_assert_int_eq(testing_crowd_count(&crowd, MTASK_OK), 5);
    end_pool(pool);
}
END_TEST

static void join_briefly(testing_member *self) {
    self->status = mtask_pool_join((mtask_pool *)self->arg, MTASK_MS(30));
}

START_TEST(destroy_waits_for_those_who_join) {
    for (int round = 0; round < 20; round++) {
        mtask_pool *pool = open_pool(2);
        testing_crowd crowd;
        mtask_event_clear(&gate);
        ck_assert_status(mtask_pool_post(pool, wait_at_gate, NULL), MTASK_OK);
        ck_assert_status(mtask_pool_close(pool), MTASK_OK);
        testing_crowd_start(&crowd, 3, join_forever, pool);
        testing_crowd_await_asleep(&crowd, 3);
        (void)testing_crowd_add(&crowd, destroy, pool);
        if (round % 2 == 0)
            testing_await_asleep(&crowd.members[3]);
        mtask_event_set(&gate);
        testing_crowd_join(&crowd);
        ck_assert_int_eq(testing_crowd_count(&crowd, MTASK_OK), 4);
    }
}
END_TEST

START_TEST(those_who_join_may_give_up_while_another_destroys) {
    mtask_pool *pool = open_pool(2);
    testing_crowd crowd;
    ck_assert_status(mtask_pool_post(pool, wait_at_gate, NULL), MTASK_OK);
    ck_assert_status(mtask_pool_close(pool), MTASK_OK);
    testing_crowd_start(&crowd, 3, join_briefly, pool);
    testing_crowd_await_settled(&crowd);
    (void)testing_crowd_add(&crowd, destroy, pool);
    testing_await_finished(&crowd, 3);
    ck_assert_int_eq(testing_crowd_count(&crowd, MTASK_TIMEOUT), 3);
    mtask_event_set(&gate);
    testing_crowd_join(&crowd);
    ck_assert_status(crowd.members[3].status, MTASK_OK);
}
END_TEST

/* ---- workers that end pools ---- */

static void *close_from_inside(void *arg) {
    mtask_pool *pool = (mtask_pool *)arg;
    mtask_future *future = NULL;
    ck_assert_status(mtask_pool_close(pool), MTASK_OK);
    ck_assert_status(mtask_pool_submit(pool, return_arg, NULL, &future), MTASK_CLOSED);
    ck_assert_status(mtask_pool_join(pool, MTASK_FOREVER), MTASK_DEADLOCK);
    ck_assert_status(mtask_pool_join(pool, MTASK_SEC(60)), MTASK_DEADLOCK);
    return arg;
}

START_TEST(a_task_may_close_its_pool_but_not_join_it) {
    mtask_pool *pool = open_pool(2);
    mtask_word ran = 0;
    mtask_future *future;
    for (int i = 0; i < 2; i++)
        ck_assert_status(mtask_pool_post(pool, wait_at_gate, NULL), MTASK_OK);
    future = submit(pool, close_from_inside, pool);
    for (int i = 0; i < 3; i++)
        ck_assert_status(mtask_pool_post(pool, count_one, &ran), MTASK_OK);
    mtask_event_set(&gate);
    ck_assert_ptr_eq(result(future), pool);
    ck_assert_status(mtask_pool_join(pool, MTASK_FOREVER), MTASK_OK);
    ck_assert_uint_eq(mtask_word_load(&ran), 3);
    end_pool(pool);
}
END_TEST

static void *terminate_from_inside(void *arg) {
    mtask_pool *pool = (mtask_pool *)arg;
    ck_assert_status(mtask_event_wait(&gate, MTASK_FOREVER), MTASK_OK);
    ck_assert_status(mtask_pool_terminate(pool), MTASK_OK);
    ck_assert_status(mtask_pool_post(pool, return_arg, NULL), MTASK_CLOSED);
    return arg;
}

START_TEST(a_task_may_terminate_its_pool) {
    mtask_pool *pool = open_pool(1);
    mtask_future *first = submit(pool, terminate_from_inside, pool);
    mtask_future *second = submit(pool, return_arg, NULL);
    mtask_event_set(&gate);
    ck_assert_ptr_eq(result(first), pool);
    ck_assert(mtask_future_canceled(second));
    mtask_future_release(second);
    ck_assert_status(mtask_pool_join(pool, MTASK_FOREVER), MTASK_OK);
    end_pool(pool);
}
END_TEST

static void *destroy_from_inside(void *arg) {
    mtask_pool *pool = (mtask_pool *)arg;
    ck_assert_status(mtask_pool_destroy(pool), MTASK_DEADLOCK);
    ck_assert_status(mtask_pool_post(pool, return_arg, NULL), MTASK_OK); /* nothing happened */
    return arg;
}

START_TEST(a_task_cannot_destroy_its_pool) {
    mtask_pool *pool = open_pool(2);
    ck_assert_ptr_eq(run_in(pool, destroy_from_inside, pool), pool);
    ck_assert_ptr_eq(run_in(pool, return_arg, pool), pool);
    end_pool(pool);
}
END_TEST

static void *destroy_another(void *arg) {
    mtask_pool *pool = (mtask_pool *)arg;
    ck_assert_status(mtask_pool_close(pool), MTASK_OK);
    ck_assert_status(mtask_pool_join(pool, MTASK_FOREVER), MTASK_OK);
    return mtask_pool_destroy(pool) == MTASK_OK ? arg : NULL;
}

START_TEST(a_task_may_destroy_another_pool) {
    mtask_pool *pool = open_pool(1), *other = open_pool(2);
    mtask_word ran = 0;
    for (int i = 0; i < 100; i++)
        ck_assert_status(mtask_pool_post(other, count_one, &ran), MTASK_OK);
    ck_assert_ptr_eq(run_in(pool, destroy_another, other), other);
    ck_assert_uint_eq(mtask_word_load(&ran), 100);
    end_pool(pool);
}
END_TEST

static void *submit_until_closed(void *arg) {
    mtask_pool *pool = (mtask_pool *)arg;
    mtask_status status = mtask_pool_post(pool, submit_until_closed, pool);
    mtask_word_add(&at_gate, 1);
    testing_check(status == MTASK_OK || status == MTASK_CLOSED);
    return NULL;
}

/* Tasks that submit their successor never come to an end by themselves. */
START_TEST(close_ends_a_pool_whose_tasks_go_on_submitting) {
    for (int terminate = 0; terminate < 2; terminate++) {
        mtask_pool *pool = open_pool(2);
        mtask_word_store(&at_gate, 0);
        for (int i = 0; i < 3; i++)
            ck_assert_status(mtask_pool_post(pool, submit_until_closed, pool), MTASK_OK);
        await_word(&at_gate, 20);
        ck_assert_status(terminate ? mtask_pool_terminate(pool) : mtask_pool_close(pool), MTASK_OK);
        ck_assert_status(mtask_pool_join(pool, MTASK_FOREVER), MTASK_OK);
        end_pool(pool);
    }
}
END_TEST

/* Python's #94440: cancelled tasks were left over, and the shutdown never ended. */
START_TEST(a_pool_ends_whose_tasks_were_all_cancelled) {
    mtask_pool *pool = open_pool(1);
    mtask_future *futures[10];
    ck_assert_status(mtask_pool_post(pool, wait_at_gate, NULL), MTASK_OK);
    await_word(&at_gate, 1);
    for (int i = 0; i < 10; i++)
        futures[i] = submit(pool, return_arg, NULL);
    for (int i = 0; i < 10; i++)
        ck_assert_status(mtask_future_cancel(futures[i]), MTASK_OK);
    ck_assert_status(mtask_pool_close(pool), MTASK_OK);
    mtask_event_set(&gate);
    ck_assert_status(mtask_pool_join(pool, MTASK_FOREVER), MTASK_OK);
    end_pool(pool);
    for (int i = 0; i < 10; i++)
        mtask_future_release(futures[i]);
}
END_TEST

/* ---- the default pool, several pools ---- */

static void *current_pool(void *arg) {
    (void)arg;
    return mtask_pool_current();
}

START_TEST(there_is_one_default_pool) {
    mtask_pool *first = NULL, *second = NULL;
    mtask_pool_stats stats;
    size_t before = mtask_thread_active_count();
    ck_assert_status(mtask_pool_default(&first), MTASK_OK);
    ck_assert_status(mtask_pool_default(&second), MTASK_OK);
    ck_assert_ptr_nonnull(first);
    ck_assert_ptr_eq(first, second);
    ck_assert_uint_eq(mtask_pool_workers(first), mtask_cpu_count());
    await_idle(first);
    ck_assert_uint_eq(mtask_thread_active_count(), before + mtask_cpu_count());
    ck_assert_ptr_eq(run_in(first, current_pool, NULL), first);
    ck_assert_status(mtask_pool_get_stats(NULL, &stats, NULL, 0), MTASK_OK);
    ck_assert_uint_eq(stats.submitted, 1);
}
END_TEST

START_TEST(no_pool_means_the_default_pool) {
    mtask_task_desc task = {.fn = current_pool};
    mtask_pool *pool = NULL, *used;
    mtask_future *future = NULL;
    mtask_word ran = 0;
    used = (mtask_pool *)run_in(NULL, current_pool, NULL); /* which makes it */
    ck_assert_status(mtask_pool_default(&pool), MTASK_OK);
    ck_assert_ptr_eq(used, pool);
    ck_assert_uint_eq(mtask_pool_workers(NULL), mtask_cpu_count());
    ck_assert_status(mtask_pool_submit_ex(NULL, &task, &future, MTASK_FOREVER), MTASK_OK);
    ck_assert_ptr_eq(result(future), pool);
    ck_assert_status(mtask_pool_post(NULL, count_one, &ran), MTASK_OK);
    await_word(&ran, 1);
}
END_TEST

START_TEST(the_default_pool_cannot_be_ended) {
    mtask_pool *pool = NULL;
    ck_assert_status(mtask_pool_default(&pool), MTASK_OK);
    for (int i = 0; i < 2; i++) {
        mtask_pool *named = i == 0 ? pool : NULL;
        ck_assert_status(mtask_pool_close(named), MTASK_INVALID);
        ck_assert_status(mtask_pool_terminate(named), MTASK_INVALID);
        ck_assert_status(mtask_pool_join(named, MTASK_FOREVER), MTASK_INVALID);
    }
    ck_assert_status(mtask_pool_destroy(pool), MTASK_INVALID);
    ck_assert_ptr_eq(run_in(NULL, current_pool, NULL), pool);
}
END_TEST

START_TEST(asking_for_its_workers_makes_no_more_than_the_default_pool) {
    mtask_pool *pool = NULL;
    ck_assert_uint_eq(mtask_pool_workers(NULL), mtask_cpu_count());
    ck_assert_status(mtask_pool_default(&pool), MTASK_OK);
    ck_assert_uint_eq(mtask_pool_workers(pool), mtask_cpu_count());
}
END_TEST

static mtask_event starting_line;

static void ask_for_default(testing_member *self) {
    mtask_pool *pool = NULL;
    ck_assert_status(mtask_event_wait(&starting_line, MTASK_FOREVER), MTASK_OK);
    self->status = mtask_pool_default(&pool);
    testing_check(run_in(NULL, current_pool, NULL) == pool);
    *((mtask_pool **)self->arg + self->index) = pool;
}

START_TEST(threads_that_ask_at_once_get_the_same_default_pool) {
    testing_crowd crowd;
    mtask_pool *pools[8] = {NULL};
    size_t before = mtask_thread_active_count();
    testing_crowd_start(&crowd, 8, ask_for_default, pools);
    testing_crowd_await_asleep(&crowd, 8);
    mtask_event_set(&starting_line);
    testing_crowd_join(&crowd);
    ck_assert_int_eq(testing_crowd_count(&crowd, MTASK_OK), 8);
    for (int i = 1; i < 8; i++)
        ck_assert_ptr_eq(pools[i], pools[0]);
    await_idle(pools[0]);
    ck_assert_uint_eq(mtask_thread_active_count(), before + mtask_cpu_count());
}
END_TEST

static void *current_of_other(void *arg) {
    mtask_pool *own = mtask_pool_current();
    mtask_pool *seen = (mtask_pool *)run_in((mtask_pool *)arg, current_pool, NULL);
    testing_check(mtask_pool_current() == own);
    return seen;
}

static void store_current(mtask_future *future, void *ctx) {
    (void)future;
    *(mtask_pool **)ctx = mtask_pool_current();
}

START_TEST(a_worker_knows_its_pool) {
    mtask_pool *pool = open_pool(2), *other = open_pool(1), *seen = pool;
    mtask_future *future;
    ck_assert_ptr_null(mtask_pool_current());
    ck_assert_ptr_eq(run_in(pool, current_pool, NULL), pool);
    ck_assert_ptr_eq(run_in(other, current_pool, NULL), other);
    ck_assert_ptr_eq(run_in(pool, current_of_other, other), other);
    future = submit(pool, wait_at_gate, NULL);
    await_word(&at_gate, 1);
    ck_assert_status(mtask_future_then(future, store_current, &seen), MTASK_OK);
    seen = NULL;
    mtask_event_set(&gate);
    (void)result(future);
    end_pool(pool);
    ck_assert_ptr_eq(seen, pool); /* callbacks run in the worker */
    end_pool(other);
    ck_assert_ptr_null(mtask_pool_current());
}
END_TEST

START_TEST(several_pools_live_side_by_side) {
    enum { POOLS = 6, TASKS = 300 };
    mtask_pool *pools[POOLS];
    mtask_word ran[POOLS] = {0};
    for (unsigned i = 0; i < POOLS; i++)
        pools[i] = open_pool(1 + i % 3);
    for (int task = 0; task < TASKS; task++)
        for (int i = 0; i < POOLS; i++)
            ck_assert_status(mtask_pool_post(pools[i], count_one, &ran[i]), MTASK_OK);
    for (int i = 0; i < POOLS; i++)
        ck_assert_ptr_eq(run_in(pools[i], current_pool, NULL), pools[i]);
    ck_assert_status(mtask_pool_terminate(pools[2]), MTASK_OK); /* concerns no other */
    for (int i = 0; i < POOLS; i++)
        if (i != 2)
            ck_assert_ptr_eq(run_in(pools[i], current_pool, NULL), pools[i]);
    for (int i = 0; i < POOLS; i++)
        end_pool(pools[(i * 5 + 3) % POOLS]);
    for (int i = 0; i < POOLS; i++)
        ck_assert_uint_eq(mtask_word_load(&ran[i]), TASKS);
}
END_TEST

/* ---- statistics ---- */

/* Fails the test unless the numbers of tasks agree. */
static void check_sum(const mtask_pool_stats *stats) {
    ck_assert_uint_eq(stats->submitted,
                      stats->done + stats->canceled + stats->pending + stats->running);
    ck_assert_uint_le(stats->failed, stats->done);
}

START_TEST(a_new_pool_has_done_nothing) {
    mtask_pool *pool = open_pool(3);
    mtask_pool_stats stats;
    await_idle(pool);
    stats = stats_of(pool);
    ck_assert_uint_eq(stats.submitted, 0);
    ck_assert_uint_eq(stats.done, 0);
    ck_assert_uint_eq(stats.failed, 0);
    ck_assert_uint_eq(stats.canceled, 0);
    ck_assert_uint_eq(stats.stolen, 0);
    ck_assert_uint_eq(stats.pending, 0);
    ck_assert_uint_eq(stats.running, 0);
    ck_assert_uint_eq(stats.threads, 3);
    ck_assert_uint_eq(stats.idle, 3);
    ck_assert_uint_eq(stats.waiting, 0);
    end_pool(pool);
}
END_TEST

START_TEST(stats_count_every_task_once) {
    mtask_pool *pool = open_pool(2);
    mtask_pool_stats stats;
    mtask_future *canceled[3];
    for (int i = 0; i < 2; i++)
        ck_assert_status(mtask_pool_post(pool, wait_at_gate, NULL), MTASK_OK);
    await_word(&at_gate, 2);
    for (int i = 0; i < 4; i++)
        ck_assert_status(mtask_pool_post(pool, fail_always, NULL), MTASK_OK);
    for (int i = 0; i < 3; i++)
        canceled[i] = submit(pool, return_arg, NULL);
    stats = stats_of(pool);
    check_sum(&stats);
    ck_assert_uint_eq(stats.submitted, 9);
    ck_assert_uint_eq(stats.running, 2);
    ck_assert_uint_eq(stats.pending, 7);
    ck_assert_uint_eq(stats.idle, 0);
    for (int i = 0; i < 3; i++) {
        ck_assert_status(mtask_future_cancel(canceled[i]), MTASK_OK);
        mtask_future_release(canceled[i]);
    }
    stats = stats_of(pool);
    check_sum(&stats);
    ck_assert_uint_eq(stats.pending, 4);
    ck_assert_uint_eq(stats.canceled, 3);
    mtask_event_set(&gate);
    await_idle(pool);
    stats = stats_of(pool);
    check_sum(&stats);
    ck_assert_uint_eq(stats.done, 6);
    ck_assert_uint_eq(stats.failed, 4);
    ck_assert_uint_eq(stats.canceled, 3);
    ck_assert_uint_eq(stats.running, 0);
    end_pool(pool);
}
END_TEST

START_TEST(stats_outlive_the_threads) {
    mtask_pool *pool = open_pool(2);
    mtask_pool_stats stats;
    for (int i = 0; i < 50; i++)
        ck_assert_status(mtask_pool_post(pool, i % 5 == 0 ? fail_always : return_arg, NULL),
                         MTASK_OK);
    ck_assert_status(mtask_pool_close(pool), MTASK_OK);
    ck_assert_status(mtask_pool_join(pool, MTASK_FOREVER), MTASK_OK);
    stats = stats_of(pool);
    check_sum(&stats);
    ck_assert_uint_eq(stats.done, 50);
    ck_assert_uint_eq(stats.failed, 10);
    ck_assert_uint_eq(stats.threads, 0);
    end_pool(pool);
}
END_TEST

START_TEST(stats_tell_who_waits_for_another) {
    mtask_pool *pool = open_pool(2);
    mtask_future *first = submit(pool, wait_at_gate, NULL);
    await_word(&at_gate, 1);
    ck_assert_status(mtask_pool_post(pool, wait_for_gate_task, first), MTASK_OK);
    while (stats_of(pool).waiting == 0)
        testing_pause(1);
    ck_assert_uint_eq(stats_of(pool).waiting, 1);
    ck_assert_uint_eq(stats_of(pool).running, 2);
    mtask_event_set(&gate);
    end_pool(pool);
}
END_TEST

static void *use_time(void *arg) {
    ck_assert_status(mtask_sleep(MTASK_MS(20)), MTASK_OK);
    return arg;
}

START_TEST(worker_stats_add_up) {
    mtask_pool *pool = open_pool(3);
    mtask_worker_stats workers[5], sum = {0};
    mtask_pool_stats stats;
    memset(workers, 0x5a, sizeof workers);
    for (int i = 0; i < 200; i++)
        ck_assert_status(mtask_pool_post(pool, i % 100 == 0 ? use_time : return_arg, NULL),
                         MTASK_OK);
    await_idle(pool);
    ck_assert_status(mtask_pool_get_stats(pool, &stats, workers, 5), MTASK_OK);
    for (int i = 0; i < 3; i++) {
        sum.tasks += workers[i].tasks;
        sum.busy += workers[i].busy;
        sum.stolen += workers[i].stolen;
        ck_assert_int_ge(workers[i].busy, 0);
        ck_assert_uint_eq(workers[i].jobs, 0);
    }
    ck_assert_uint_eq(sum.tasks, 200);
    ck_assert_uint_eq(sum.stolen, stats.stolen);
    ck_assert_int_ge(sum.busy, MTASK_MS(40));
    ck_assert_int_ge(stats.busy, MTASK_MS(40));
    ck_assert_int_eq(stats.busy, sum.busy); /* there were no spare threads */
    for (int i = 3; i < 5; i++)
        ck_assert_uint_eq(workers[i].tasks, UINT64_C(0x5a5a5a5a5a5a5a5a));
    end_pool(pool);
}
END_TEST

START_TEST(worker_stats_fill_no_more_than_there_is_room_for) {
    mtask_pool *pool = open_pool(3);
    mtask_worker_stats workers[3];
    mtask_pool_stats stats;
    memset(workers, 0x5a, sizeof workers);
    ck_assert_status(mtask_pool_get_stats(pool, &stats, workers, 1), MTASK_OK);
    ck_assert_uint_eq(workers[0].tasks, 0);
    ck_assert_uint_eq(workers[1].tasks, UINT64_C(0x5a5a5a5a5a5a5a5a));
    ck_assert_status(mtask_pool_get_stats(pool, &stats, NULL, 3), MTASK_OK);
    end_pool(pool);
}
END_TEST

static void watch_stats(testing_member *self) {
    mtask_pool *pool = (mtask_pool *)self->arg;
    uint64_t done = 0;
    while (!mtask_event_is_set(&gate)) {
        mtask_pool_stats stats = stats_of(pool);
        testing_check(stats.done >= done);
        testing_check(stats.threads <= 2 && stats.idle <= stats.threads);
        testing_check(stats.running <= 2);
        done = stats.done;
    }
    self->number = (long)done;
}

START_TEST(stats_may_be_read_while_tasks_run) {
    mtask_pool *pool = open_pool(2);
    long tasks = testing_scale(20000);
    mtask_word ran = 0;
    mtask_pool_stats stats;
    testing_crowd crowd;
    testing_crowd_start(&crowd, 2, watch_stats, pool);
    for (long i = 0; i < tasks; i++)
        ck_assert_status(mtask_pool_post(pool, count_one, &ran), MTASK_OK);
    await_idle(pool);
    mtask_event_set(&gate);
    testing_crowd_join(&crowd);
    stats = stats_of(pool);
    check_sum(&stats);
    ck_assert_uint_eq(stats.done, (uint64_t)tasks);
    ck_assert_uint_eq(mtask_word_load(&ran), (mtask_word)tasks);
    end_pool(pool);
}
END_TEST

/* ---- idleness ---- */

static int64_t process_cpu_time(void) {
    struct timespec used;
    testing_check(clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used) == 0);
    return MTASK_SEC(used.tv_sec) + used.tv_nsec;
}

/* Fails the test if the process, this thread asleep, uses a tenth of a CPU. */
static void check_no_cpu_used(void) {
    int64_t used = process_cpu_time(), start = mtask_now();
    testing_pause(200);
    used = process_cpu_time() - used;
    ck_assert_int_le(used * 10, mtask_now() - start);
}

START_TEST(idle_pools_use_no_cpu) {
    mtask_pool *fresh = open_pool(4), *used = open_pool(4);
    mtask_word ran = 0;
    for (int i = 0; i < 1000; i++)
        ck_assert_status(mtask_pool_post(used, count_one, &ran), MTASK_OK);
    (void)run_in(NULL, return_arg, NULL);
    await_idle(fresh);
    await_idle(used);
    check_no_cpu_used();
    ck_assert_int_lt(stats_of(used).busy, MTASK_SEC(60));
    end_pool(fresh);
    end_pool(used);
}
END_TEST

START_TEST(idle_workers_stay_asleep) {
    mtask_pool_desc desc = {.workers = 4};
    roll r;
    mtask_pool *pool = make_enrolled(desc, &r);
    long slept[4];
    (void)run_in(pool, return_arg, NULL);
    await_idle(pool);
    for (int i = 0; i < 4; i++)
        while (!testing_is_asleep(getpid(), (int)r.infos[i].native_id))
            testing_pause(1);
    for (int i = 0; i < 4; i++)
        slept[i] = testing_slept(getpid(), (int)r.infos[i].native_id);
    testing_pause(100);
    for (int i = 0; i < 4; i++)
        ck_assert_int_eq(testing_slept(getpid(), (int)r.infos[i].native_id), slept[i]);
    end_pool(pool);
}
END_TEST

START_TEST(an_idle_pool_is_not_busy) {
    mtask_pool *pool = open_pool(4);
    int64_t busy = MTASK_SEC(60), start = mtask_now();
    (void)run_in(pool, return_arg, NULL);
    await_idle(pool);
    /* a worker that is about to sleep is busy for as long as the system keeps it from that */
    for (int i = 0; i < 20 && busy * 4 > mtask_now() - start; i++) {
        start = mtask_now();
        busy = stats_of(pool).busy;
        testing_pause(20);
        busy = stats_of(pool).busy - busy;
    }
    ck_assert_int_le(busy * 4, mtask_now() - start);
    end_pool(pool);
}
END_TEST

START_TEST(a_pool_whose_tasks_all_wait_uses_no_cpu) {
    mtask_pool *pool = open_pool(3);
    mtask_future *first = submit(pool, wait_at_gate, NULL);
    await_word(&at_gate, 1);
    ck_assert_status(mtask_pool_post(pool, wait_for_gate_task, first), MTASK_OK);
    ck_assert_status(mtask_pool_close(pool), MTASK_OK);
    while (stats_of(pool).waiting == 0)
        testing_pause(1);
    check_no_cpu_used();
    mtask_event_set(&gate);
    end_pool(pool);
}
END_TEST

/* ---- fork ----

   A child reports by its exit code: the functions that run in it return 0, or the line of the first
   check that failed. Check's own assertions belong to the parent. */

#define CHILD_CHECK(condition)                                                                     \
 do {                                                                                              \
  if (!(condition))                                                                                \
   return __LINE__;                                                                                \
 } while (0)

typedef int (*child_fn)(void *arg);

/* Forks, runs fn(arg) in the child, and fails the test unless that returns 0. */
static void run_child(child_fn fn, void *arg) {
    int status = 0;
    pid_t pid;
    fflush(NULL);
    pid = fork();
    if (pid == 0) {
        int line;
        signal(SIGALRM, SIG_DFL); /* Check's handler would kill the test as well */
        alarm((TESTING_TSAN || TESTING_ASAN) ? 100 : 20);
        line = fn(arg);
        if (line != 0)
            dprintf(2, "%s:%d: failed in the child\n", __FILE__, line);
        _exit(line != 0);
    }
    testing_check(pid > 0);
    testing_check(waitpid(pid, &status, 0) == pid);
    if (WIFSIGNALED(status))
        fprintf(stderr, "the child was ended by signal %d\n", WTERMSIG(status));
    testing_check(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* What a child inherits. */
typedef struct legacy {
    mtask_pool *pool;
    mtask_future *finished;
    mtask_future *running;
    mtask_future *pending;
} legacy;

/* All calls on a pool of the parent. */
static int see_pool_broken(mtask_pool *pool) {
    mtask_task_desc task = {.fn = return_arg};
    mtask_future *future = NULL;
    mtask_pool_stats stats;
    CHILD_CHECK(mtask_pool_submit(pool, return_arg, NULL, &future) == MTASK_BROKEN);
    CHILD_CHECK(mtask_pool_post(pool, return_arg, NULL) == MTASK_BROKEN);
    CHILD_CHECK(mtask_pool_submit_ex(pool, &task, NULL, MTASK_FOREVER) == MTASK_BROKEN);
    CHILD_CHECK(mtask_pool_get_stats(pool, &stats, NULL, 0) == MTASK_BROKEN);
    CHILD_CHECK(mtask_pool_close(pool) == MTASK_BROKEN);
    CHILD_CHECK(mtask_pool_terminate(pool) == MTASK_BROKEN);
    CHILD_CHECK(mtask_pool_join(pool, MTASK_FOREVER) == MTASK_BROKEN);
    return 0;
}

static int see_all_broken(void *arg) {
    legacy *l = (legacy *)arg;
    mtask_future *both[2] = {l->pending, l->running};
    mtask_outcome outcome;
    CHILD_CHECK(mtask_pool_current() == NULL);
    CHILD_CHECK(see_pool_broken(l->pool) == 0);
    CHILD_CHECK(mtask_future_get(l->running, &outcome, MTASK_FOREVER) == MTASK_BROKEN);
    CHILD_CHECK(mtask_future_get(l->pending, &outcome, MTASK_FOREVER) == MTASK_BROKEN);
    CHILD_CHECK(mtask_future_get(l->pending, &outcome, MTASK_SEC(60)) == MTASK_BROKEN);
    CHILD_CHECK(mtask_future_wait(l->running, MTASK_FOREVER) == MTASK_BROKEN);
    CHILD_CHECK(mtask_futures_wait(both, 2, MTASK_WAIT_ALL, MTASK_FOREVER) == MTASK_BROKEN);
    CHILD_CHECK(mtask_futures_wait(both, 2, MTASK_WAIT_ANY, MTASK_FOREVER) == MTASK_BROKEN);
    CHILD_CHECK(mtask_future_get(l->finished, &outcome, MTASK_FOREVER) == MTASK_OK);
    CHILD_CHECK(outcome.value == l->pool);
    return 0;
}

static void make_legacy(legacy *l, unsigned workers) {
    l->pool = open_pool(workers);
    l->finished = submit(l->pool, return_arg, l->pool);
    ck_assert_status(mtask_future_wait(l->finished, MTASK_FOREVER), MTASK_OK);
    for (unsigned i = 1; i < workers; i++)
        ck_assert_status(mtask_pool_post(l->pool, wait_at_gate, NULL), MTASK_OK);
    l->running = submit(l->pool, wait_at_gate, &gate);
    await_word(&at_gate, workers);
    l->pending = submit(l->pool, return_arg, &at_gate);
}

/* Ends what the parent has, which must have gone on unharmed. */
static void end_legacy(legacy *l) {
    mtask_event_set(&gate);
    ck_assert_ptr_eq(result(l->finished), l->pool);
    ck_assert_ptr_eq(result(l->running), &gate);
    ck_assert_ptr_eq(result(l->pending), &at_gate);
    ck_assert_ptr_eq(run_in(l->pool, return_arg, l), l);
    end_pool(l->pool);
}

START_TEST(pools_and_futures_of_the_parent_are_broken_in_the_child) {
    legacy l;
    make_legacy(&l, 2);
    run_child(see_all_broken, &l);
    end_legacy(&l);
}
END_TEST

static int see_default_broken(void *arg) {
    return see_pool_broken((mtask_pool *)arg);
}

START_TEST(the_default_pool_of_the_parent_is_broken_in_the_child) {
    mtask_pool *pool = NULL;
    ck_assert_status(mtask_pool_default(&pool), MTASK_OK);
    await_idle(pool);
    run_child(see_default_broken, pool);
    ck_assert_ptr_eq(run_in(NULL, current_pool, NULL), pool);
}
END_TEST

static int see_closed_broken(void *arg) {
    legacy *l = (legacy *)arg;
    CHILD_CHECK(see_pool_broken(l->pool) == 0);
    CHILD_CHECK(mtask_future_get(l->pending, NULL, MTASK_FOREVER) == MTASK_BROKEN);
    return 0;
}

START_TEST(a_closed_pool_of_the_parent_is_broken_in_the_child_too) {
    legacy l;
    testing_crowd crowd;
    make_legacy(&l, 1);
    ck_assert_status(mtask_pool_close(l.pool), MTASK_OK);
    testing_crowd_start(&crowd, 2, join_forever, l.pool);
    testing_crowd_await_asleep(&crowd, 2);
    run_child(see_closed_broken, &l);
    mtask_event_set(&gate);
    testing_crowd_join(&crowd);
    ck_assert_int_eq(testing_crowd_count(&crowd, MTASK_OK), 2);
    ck_assert_ptr_eq(result(l.running), &gate);
    mtask_future_release(l.finished);
    mtask_future_release(l.pending);
    end_pool(l.pool);
}
END_TEST

static int destroy_in_child(void *arg) {
    legacy *l = (legacy *)arg;
    CHILD_CHECK(mtask_pool_destroy(l->pool) == MTASK_OK);
    mtask_future_release(l->pending);
    mtask_future_release(l->running);
    mtask_future_release(l->finished);
    return 0;
}

START_TEST(a_child_may_destroy_a_pool_of_its_parent) {
    legacy l;
    make_legacy(&l, 2);
    run_child(destroy_in_child, &l);
    end_legacy(&l);
}
END_TEST

/* What a child does to see that pools work. */
static int use_pools(void *arg) {
    mtask_pool *pool = NULL, *own = NULL;
    mtask_outcome outcome;
    mtask_future *future = NULL;
    CHILD_CHECK(mtask_pool_default(&pool) == MTASK_OK);
    for (int i = 0; i < 20; i++) {
        CHILD_CHECK(mtask_pool_submit(NULL, current_pool, NULL, &future) == MTASK_OK);
        CHILD_CHECK(mtask_future_get(future, &outcome, MTASK_FOREVER) == MTASK_OK);
        CHILD_CHECK(outcome.value == pool);
        mtask_future_release(future);
    }
    CHILD_CHECK(mtask_pool_create(&own, NULL) == MTASK_OK);
    CHILD_CHECK(mtask_pool_submit(own, return_arg, arg, &future) == MTASK_OK);
    CHILD_CHECK(mtask_future_get(future, &outcome, MTASK_FOREVER) == MTASK_OK);
    CHILD_CHECK(outcome.value == arg);
    mtask_future_release(future);
    CHILD_CHECK(mtask_pool_destroy(own) == MTASK_OK);
    return 0;
}

START_TEST(a_child_has_a_default_pool_of_its_own) {
    legacy l;
    mtask_pool *pool = NULL;
    if (!CHILDREN_MAY_DO_ALL)
        return;
    make_legacy(&l, 2);
    run_child(use_pools, &gate); /* the parent has none yet */
    ck_assert_status(mtask_pool_default(&pool), MTASK_OK);
    run_child(use_pools, &gate);
    (void)run_in(NULL, return_arg, NULL);
    run_child(use_pools, &gate);
    ck_assert_ptr_eq(run_in(NULL, current_pool, NULL), pool);
    end_legacy(&l);
}
END_TEST

static int use_pools_and_fork(void *arg) {
    int status = 0;
    pid_t pid;
    CHILD_CHECK(use_pools(arg) == 0);
    pid = fork();
    if (pid == 0)
        _exit(use_pools(arg) != 0);
    CHILD_CHECK(waitpid(pid, &status, 0) == pid && status == 0);
    return use_pools(arg);
}

START_TEST(so_has_a_child_of_a_child) {
    if (!CHILDREN_MAY_DO_ALL)
        return;
    (void)run_in(NULL, return_arg, NULL);
    run_child(use_pools_and_fork, &gate);
    (void)run_in(NULL, return_arg, NULL);
}
END_TEST

/* In the child of a worker, which is in the middle of a task. */
static int go_on_as_child_of_a_worker(void *arg) {
    legacy *l = (legacy *)arg;
    CHILD_CHECK(mtask_pool_current() == NULL);
    CHILD_CHECK(see_pool_broken(l->pool) == 0);
    CHILD_CHECK(mtask_future_get(l->pending, NULL, MTASK_FOREVER) == MTASK_BROKEN);
    CHILD_CHECK(mtask_future_get(l->running, NULL, MTASK_FOREVER) == MTASK_BROKEN);
    return CHILDREN_MAY_DO_ALL ? use_pools(arg) : 0;
}

static void *fork_in_task(void *arg) {
    ck_assert_status(mtask_event_wait(&starting_line, MTASK_FOREVER), MTASK_OK);
    run_child(go_on_as_child_of_a_worker, arg);
    return arg;
}

START_TEST(a_task_may_fork) {
    legacy l;
    mtask_future *forker;
    mtask_pool *pool = open_pool(1);
    make_legacy(&l, 1);
    mtask_event_set(&starting_line);
    ck_assert_ptr_eq(run_in(pool, fork_in_task, &l), &l); /* of another pool */
    end_pool(pool);
    end_legacy(&l);
    mtask_event_clear(&starting_line);
    mtask_event_clear(&gate);
    mtask_word_store(&at_gate, 0);
    l.pool = open_pool(2);
    l.running = submit(l.pool, wait_at_gate, &gate);
    await_word(&at_gate, 1);
    forker = submit(l.pool, fork_in_task, &l); /* now of its own */
    l.pending = submit(l.pool, return_arg, &at_gate);
    l.finished = submit(l.pool, return_arg, l.pool);
    mtask_event_set(&starting_line);
    ck_assert_ptr_eq(result(forker), &l);
    end_legacy(&l);
}
END_TEST

static void *sleep_a_while(void *arg) {
    return mtask_sleep(MTASK_MS(30)) == MTASK_OK ? arg : NULL;
}

/* What waits in the parent's pool is the parent's to do, also while the child waits for its own. */
static int wait_and_see_nothing_run(void *arg) {
    mtask_outcome outcome;
    mtask_future *future = NULL;
    CHILD_CHECK(mtask_pool_submit(NULL, sleep_a_while, arg, &future) == MTASK_OK);
    CHILD_CHECK(mtask_future_get(future, &outcome, MTASK_FOREVER) == MTASK_OK);
    CHILD_CHECK(outcome.value == arg);
    CHILD_CHECK(mtask_word_load((mtask_word *)arg) == 0);
    mtask_future_release(future);
    return 0;
}

static void *fork_and_wait(void *arg) {
    ck_assert_status(mtask_event_wait(&starting_line, MTASK_FOREVER), MTASK_OK);
    run_child(wait_and_see_nothing_run, arg);
    return arg;
}

START_TEST(a_child_of_a_worker_does_not_do_what_its_parent_has_to_do) {
    mtask_pool *pool;
    mtask_word ran = 0;
    mtask_future *future;
    if (!CHILDREN_MAY_DO_ALL)
        return;
    pool = open_pool(1);
    future = submit(pool, fork_and_wait, &ran);
    for (int i = 0; i < 10; i++)
        ck_assert_status(mtask_pool_post(pool, count_one, &ran), MTASK_OK);
    mtask_event_set(&starting_line);
    ck_assert_ptr_eq(result(future), &ran);
    end_pool(pool);
    ck_assert_uint_eq(mtask_word_load(&ran), 10);
}
END_TEST

static void keep_busy(testing_member *self) {
    mtask_pool *pool = (mtask_pool *)self->arg;
    mtask_word ran = 0;
    while (!mtask_event_is_set(&gate)) {
        for (int i = 0; i < 20; i++)
            ck_assert_status(mtask_pool_post(pool, count_one, &ran), MTASK_OK);
        (void)run_in(pool, return_arg, NULL);
        (void)run_in(NULL, return_arg, NULL);
        self->number += 20;
    }
    await_word(&ran, (mtask_word)self->number);
}

/* What a pool has and a group of it, in the child of a thread that used neither when it forked. */
typedef struct bustle {
    mtask_pool *pool;
    mtask_group group;
    mtask_word forks;
} bustle;

static int use_pools_amid_bustle(void *arg) {
    bustle *b = (bustle *)arg;
    CHILD_CHECK(see_pool_broken(b->pool) == 0);
    CHILD_CHECK(mtask_group_post(&b->group, return_arg, NULL) == MTASK_BROKEN);
    CHILD_CHECK(mtask_group_cancel(&b->group) == MTASK_BROKEN);
    CHILD_CHECK(mtask_group_wait(&b->group, NULL, MTASK_FOREVER) == MTASK_BROKEN);
    CHILD_CHECK(mtask_group_pending(&b->group) <= 1);
    return use_pools(arg);
}

static void begin_bustle(bustle *b, unsigned workers, testing_crowd *crowd) {
    memset(b, 0, sizeof *b);
    b->pool = open_pool(workers);
    ck_assert_status(mtask_group_init(&b->group, b->pool, 0), MTASK_OK);
    ck_assert_status(mtask_group_post(&b->group, wait_at_gate, NULL), MTASK_OK);
    testing_crowd_start(crowd, 2, keep_busy, b->pool);
}

static void end_bustle(bustle *b, testing_crowd *crowd) {
    mtask_event_set(&gate);
    testing_crowd_join(crowd);
    ck_assert_status(mtask_group_wait(&b->group, NULL, MTASK_FOREVER), MTASK_OK);
    end_pool(b->pool);
}

START_TEST(a_process_may_fork_while_its_pools_are_busy) {
    bustle b;
    testing_crowd crowd;
    if (!CHILDREN_MAY_DO_ALL)
        return;
    begin_bustle(&b, 3, &crowd);
    for (long i = 0; i < testing_scale(60); i++)
        run_child(use_pools_amid_bustle, &b);
    end_bustle(&b, &crowd);
}
END_TEST

static void *fork_amid_bustle(void *arg) {
    run_child(use_pools_amid_bustle, arg);
    mtask_word_add(&((bustle *)arg)->forks, 1);
    return arg;
}

START_TEST(a_task_may_fork_while_its_pool_is_busy) {
    bustle b;
    testing_crowd crowd;
    if (!CHILDREN_MAY_DO_ALL)
        return;
    begin_bustle(&b, 3, &crowd);
    for (long i = 0; i < testing_scale(60); i++)
        ck_assert_ptr_eq(run_in(b.pool, fork_amid_bustle, &b), &b);
    end_bustle(&b, &crowd);
    ck_assert_uint_eq(b.forks, (mtask_word)testing_scale(60));
}
END_TEST

TESTING_MAIN("pool", a_pool_has_a_worker_for_each_cpu_by_default,
             a_pool_has_as_many_threads_as_asked_for, all_workers_run_tasks_at_once,
             descriptions_out_of_range_are_refused, descriptions_at_the_limits_are_taken,
             a_pool_may_have_a_thousand_workers, threads_are_called_after_the_pool,
             pools_without_a_name_get_one_each, a_long_name_is_cut, threads_of_a_pool_are_daemons,
             threads_have_the_stack_asked_for, threads_run_where_their_creator_may_by_default,
             threads_run_on_the_cpus_given_to_the_pool, pinned_workers_have_one_cpu_each,
             cpus_that_do_not_exist_make_no_pool, each_thread_begins_with_init_and_ends_with_deinit,
             tasks_run_where_init_has_run, init_runs_in_every_thread_of_a_pool_that_ends_at_once,
             init_runs_in_spare_threads_too, a_description_may_go_when_the_pool_is_made,
             a_failing_init_breaks_the_pool, a_failing_init_fails_what_was_submitted_with_its_error,
             one_failing_init_breaks_the_pool_and_leaves_what_runs,
             a_failing_init_wakes_those_who_wait_for_room, a_failing_init_wakes_those_who_join,
             a_broken_pool_can_be_destroyed_at_once, init_may_use_other_pools,
             a_closed_pool_takes_nothing_and_does_what_it_has,
             a_terminated_pool_cancels_what_has_not_started, join_waits_for_all_and_can_be_repeated,
             threads_have_ended_when_join_returns,
             destroy_does_what_was_submitted_and_leaves_no_thread, destroy_waits_for_tasks_that_run,
             a_pool_can_be_destroyed_as_soon_as_it_is_made, a_pool_can_be_ended_in_any_order,
             a_pool_can_be_ended_by_several_threads_at_once, several_may_join_and_all_are_told,
             destroy_waits_for_those_who_join, those_who_join_may_give_up_while_another_destroys,
             a_task_may_close_its_pool_but_not_join_it, a_task_may_terminate_its_pool,
             a_task_cannot_destroy_its_pool, a_task_may_destroy_another_pool,
             close_ends_a_pool_whose_tasks_go_on_submitting,
             a_pool_ends_whose_tasks_were_all_cancelled, there_is_one_default_pool,
             no_pool_means_the_default_pool, the_default_pool_cannot_be_ended,
             asking_for_its_workers_makes_no_more_than_the_default_pool,
             threads_that_ask_at_once_get_the_same_default_pool, a_worker_knows_its_pool,
             several_pools_live_side_by_side, a_new_pool_has_done_nothing,
             stats_count_every_task_once, stats_outlive_the_threads,
             stats_tell_who_waits_for_another, worker_stats_add_up,
             worker_stats_fill_no_more_than_there_is_room_for, stats_may_be_read_while_tasks_run,
             idle_pools_use_no_cpu, idle_workers_stay_asleep, an_idle_pool_is_not_busy,
             a_pool_whose_tasks_all_wait_uses_no_cpu,
             pools_and_futures_of_the_parent_are_broken_in_the_child,
             the_default_pool_of_the_parent_is_broken_in_the_child,
             a_closed_pool_of_the_parent_is_broken_in_the_child_too,
             a_child_may_destroy_a_pool_of_its_parent, a_child_has_a_default_pool_of_its_own,
             so_has_a_child_of_a_child, a_task_may_fork,
             a_child_of_a_worker_does_not_do_what_its_parent_has_to_do,
             a_process_may_fork_while_its_pools_are_busy, a_task_may_fork_while_its_pool_is_busy)
