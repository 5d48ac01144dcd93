/* test_mtask_pool_wait.c - tasks of a pool that wait for other tasks

   With any number of workers: who waits runs what nobody has started, other threads stand in for
   those that block, circles are refused, and a lock that is held meanwhile hurts nobody. */
#include "testing_threads.h"
#include "../mtask_pool.h"

#define READ(variable)     __atomic_load_n((variable), __ATOMIC_ACQUIRE)
#define WRITE(variable, v) __atomic_store_n((variable), (v), __ATOMIC_RELEASE)
#define COUNT(counter)     ((void)__atomic_fetch_add((counter), 1, __ATOMIC_ACQ_REL))

#define MOST_WORKERS 4

/* ---- pools and tasks of the tests ---- */

static mtask_pool *open_pool(unsigned workers, unsigned spare) {
    mtask_pool_desc desc = {0};
    mtask_pool *pool = NULL;
    desc.workers = workers;
    desc.spare = spare;
    ck_assert_status(mtask_pool_create(&pool, &desc), MTASK_OK);
    return pool;
}

static void *pack(long number) {
    return (void *)(intptr_t)number;
}

static long unpack(const void *value) {
    return (long)(intptr_t)value;
}

static mtask_future *submit(mtask_pool *pool, mtask_fn fn, void *arg) {
    mtask_future *future = NULL;
    ck_assert_status(mtask_pool_submit(pool, fn, arg, &future), MTASK_OK);
    return future;
}

/* What a task returns that must succeed. */
static void *await(mtask_future *future) {
    mtask_outcome outcome;
    ck_assert_status(mtask_future_get(future, &outcome, MTASK_FOREVER), MTASK_OK);
    return outcome.value;
}

/* The same; gives the future back. */
static void *take(mtask_future *future) {
    void *value = await(future);
    mtask_future_release(future);
    return value;
}

/* Runs a task in the pool and returns what it returns. */
static void *call(mtask_pool *pool, mtask_fn fn, void *arg) {
    return take(submit(pool, fn, arg));
}

static void *plus_one(void *arg) {
    return pack(unpack(arg) + 1);
}

/* The same, done by another task. */
static void *plus_one_nested(void *arg) {
    return call(mtask_pool_current(), plus_one, arg);
}

static mtask_pool_stats stats_of(mtask_pool *pool) {
    mtask_pool_stats stats;
    ck_assert_status(mtask_pool_get_stats(pool, &stats, NULL, 0), MTASK_OK);
    return stats;
}

/* Returns when as many threads as that wait for other tasks. */
static void await_waiting(mtask_pool *pool, unsigned count) {
    while (stats_of(pool).waiting != count)
        testing_pause(1);
}

static void await_idle(mtask_pool *pool, unsigned count) {
    while (stats_of(pool).idle != count)
        testing_pause(1);
}

/* Returns when the threads that stood in have ended. */
static void await_workers_alone(mtask_pool *pool) {
    while (stats_of(pool).threads != mtask_pool_workers(pool))
        testing_pause(1);
}

/* Whatever happened to the pool, it does what it should. */
static void check_usable(mtask_pool *pool) {
    mtask_future *futures[2 * MOST_WORKERS];
    for (long i = 0; i < 2 * MOST_WORKERS; i++)
        futures[i] = submit(pool, i % 2 == 0 ? plus_one : plus_one_nested, pack(i));
    for (long i = 0; i < 2 * MOST_WORKERS; i++)
        ck_assert_int_eq(unpack(take(futures[i])), i + 1);
}

/* Ends a pool that has nothing to do any more: nobody is left behind in it. */
static void end(mtask_pool *pool) {
    mtask_pool_stats stats;
    check_usable(pool);
    await_workers_alone(pool);
    do { /* a task's end is told before it is counted */
        stats = stats_of(pool);
    } while (stats.running != 0);
    ck_assert_uint_eq(stats.waiting, 0);
    ck_assert_uint_eq(stats.pending, 0);
    ck_assert_uint_eq(stats.submitted, stats.done + stats.canceled);
    ck_assert_status(mtask_pool_destroy(pool), MTASK_OK);
}

static mtask_future *make_promise(void) {
    mtask_future *promise = NULL;
    ck_assert_status(mtask_future_create(&promise, NULL), MTASK_OK);
    return promise;
}

static void keep_promise(mtask_future *promise, long value) {
    ck_assert_status(mtask_future_set(promise, pack(value)), MTASK_OK);
}

static void *keep_with_nine(void *arg) {
    keep_promise((mtask_future *)arg, 9);
    return NULL;
}

static void pass_gate(mtask_event *gate) {
    ck_assert_status(mtask_event_wait(gate, MTASK_FOREVER), MTASK_OK);
}

/* ---- nested submits ---- */

static void *sum_of_children(void *arg) {
    mtask_future *children[5];
    long sum = 0;
    for (long i = 0; i < 5; i++)
        children[i] = submit(mtask_pool_current(), plus_one, pack(unpack(arg) + i));
    for (long i = 0; i < 5; i++)
        sum += unpack(take(children[unpack(arg) % 2 == 0 ? i : 4 - i]));
    return pack(sum);
}

static void *sum_of_grandchildren(void *arg) {
    mtask_future *children[4];
    long sum = 0;
    for (long i = 0; i < 4; i++)
        children[i] = submit(mtask_pool_current(), sum_of_children, pack(unpack(arg) + i));
    for (long i = 0; i < 4; i++)
        sum += unpack(take(children[i]));
    return pack(sum);
}

START_TEST(tasks_wait_for_tasks_with_any_number_of_workers) {
    for (unsigned workers = 1; workers <= MOST_WORKERS; workers++) {
        mtask_pool *pool = open_pool(workers, 0);
        mtask_future *families[10];
        for (long i = 0; i < 10; i++)
            families[i] = submit(pool, sum_of_grandchildren, pack(i));
        for (long i = 0; i < 10; i++) /* of i + j + k + 1, for j < 4 and k < 5 */
            ck_assert_int_eq(unpack(take(families[i])), 20 * (i + 1) + 5 * 6 + 4 * 10);
        end(pool);
    }
}
END_TEST

static void *fib(void *arg) {
    long n = unpack(arg);
    mtask_future *one;
    mtask_future *two;
    long sum;
    if (n < 2)
        return arg;
    one = submit(mtask_pool_current(), fib, pack(n - 1));
    two = submit(mtask_pool_current(), fib, pack(n - 2));
    sum = unpack(take(one));
    return pack(sum + unpack(take(two)));
}

START_TEST(a_recursion_by_submit_and_get_gives_the_right_number) {
    long n = testing_scale(1600) >= 800 ? 16 : 12;
    for (unsigned workers = 1; workers <= MOST_WORKERS; workers++) {
        mtask_pool *pool = open_pool(workers, 0);
        for (long i = 0; i <= n; i += 4)
            ck_assert_int_eq(unpack(call(pool, fib, pack(i))), i == 0    ? 0
                                                               : i == 4  ? 3
                                                               : i == 8  ? 21
                                                               : i == 12 ? 144
                                                                         : 987);
        end(pool);
    }
}
END_TEST

/* Task n waits for task n - 1. */
static void *descend(void *arg) {
    return pack(unpack(arg) == 0
                    ? 0
                    : 1 + unpack(call(mtask_pool_current(), descend, pack(unpack(arg) - 1))));
}

START_TEST(a_recursion_may_be_deeper_than_a_worker_nests) {
    for (unsigned workers = 1; workers <= MOST_WORKERS; workers++) {
        mtask_pool *pool = open_pool(workers, 0);
        ck_assert_int_eq(unpack(call(pool, descend, pack(63))), 63);
        ck_assert_int_eq(unpack(call(pool, descend, pack(64))), 64);
        ck_assert_int_eq(unpack(call(pool, descend, pack(65))), 65);
        if (workers == 1) { /* otherwise chance may give each level a thread, and there are 68 */
            ck_assert_int_eq(unpack(call(pool, descend, pack(200))), 200);
            ck_assert_int_eq(unpack(call(pool, descend, pack(1000))), 1000);
        }
        end(pool);
    }
}
END_TEST

/* As deep as it gets: the first level whose wait is refused counts itself. What it could not wait
   for is done later, all the same. */
static long refused;

static void *descend_until_refused(void *arg) {
    mtask_future *next = NULL;
    mtask_outcome outcome = {MTASK_OK, NULL, ""};
    mtask_status status;
    if (unpack(arg) == 0 || READ(&refused) != 0)
        return NULL;
    next = submit(mtask_pool_current(), descend_until_refused, pack(unpack(arg) - 1));
    status = mtask_future_get(next, &outcome, MTASK_FOREVER);
    if (status == MTASK_DEADLOCK)
        COUNT(&refused);
    else
        ck_assert_status(status, MTASK_OK);
    mtask_future_release(next);
    return pack(1 + unpack(outcome.value));
}

START_TEST(a_recursion_past_all_bounds_is_refused_and_comes_back) {
    for (unsigned workers = 1; workers <= 2; workers++) {
        mtask_pool *pool = open_pool(workers, 1);
        long depth;
        WRITE(&refused, 0);
        depth = unpack(call(pool, descend_until_refused, pack(100000)));
        ck_assert_int_eq(READ(&refused), 1);
        if (workers == 1) /* two threads, each as deep as it goes; more may overtake one another */
            ck_assert_int_ge(depth, 2 * 64);
        end(pool);
    }
}
END_TEST

/* ---- who runs what is waited for ---- */

/* What a task sees of itself. */
typedef struct sight {
    mtask_pool *pool;
    pthread_t thread;
    uint64_t task;
} sight;

static void *look(void *arg) {
    sight *self = (sight *)arg;
    self->pool = mtask_pool_current();
    self->thread = pthread_self();
    self->task = mtask_task_id();
    return arg;
}

/* Waits in one of the ways of which each does what it waits for. */
static mtask_status wait_somehow(mtask_future *future, int way) {
    mtask_future *twice[20];
    for (int i = 0; i < 20; i++)
        twice[i] = future;
    switch (way) {
    case 0:
        return mtask_future_get(future, NULL, MTASK_FOREVER);
    case 1:
        return mtask_future_wait(future, MTASK_FOREVER);
    case 2:
        return mtask_futures_wait(&future, 1, MTASK_WAIT_ALL, MTASK_FOREVER);
    default:
        return mtask_futures_wait(twice, 20, MTASK_WAIT_ALL, MTASK_FOREVER);
    }
}

#define WAYS 4

static void *see_what_is_waited_for(void *arg) {
    sight outer, inner, again;
    mtask_future *future = submit(mtask_pool_current(), look, &inner);
    look(&outer);
    ck_assert_status(wait_somehow(future, (int)unpack(arg)), MTASK_OK);
    look(&again);
    mtask_future_release(future);
    ck_assert(inner.pool == outer.pool);
    ck_assert(pthread_equal(inner.thread, outer.thread));
    ck_assert_uint_ne(inner.task, outer.task); /* it is a task of its own */
    ck_assert_uint_eq(again.task, outer.task);
    ck_assert(again.pool == outer.pool);
    return NULL;
}

START_TEST(a_waiter_runs_what_nobody_has_started) {
    mtask_pool *pool = open_pool(1, 0);
    for (long way = 0; way < WAYS; way++)
        call(pool, see_what_is_waited_for, pack(way));
    ck_assert_uint_eq(stats_of(pool).threads, 1);
    end(pool);
}
END_TEST

static void *fail_with_text(void *arg) {
    (void)arg;
    return mtask_fail(MTASK_NOT_FOUND, "no such %s", "thing");
}

static void *wait_for_a_failure(void *arg) {
    mtask_future *future = submit(mtask_pool_current(), fail_with_text, NULL);
    mtask_outcome outcome;
    ck_assert_status(mtask_future_get(future, &outcome, MTASK_FOREVER), MTASK_FAILED);
    ck_assert_status(outcome.status, MTASK_NOT_FOUND);
    ck_assert_str_eq(outcome.text, "no such thing");
    ck_assert_status(mtask_failure(NULL), MTASK_OK); /* of this task: none */
    mtask_future_release(future);
    return arg;
}

START_TEST(a_failure_in_a_task_that_its_waiter_runs_is_that_tasks_own) {
    for (unsigned workers = 1; workers <= 2; workers++) {
        mtask_pool *pool = open_pool(workers, 0);
        for (long i = 0; i < 20; i++)
            ck_assert_int_eq(unpack(call(pool, wait_for_a_failure, pack(i))), i);
        end(pool);
    }
}
END_TEST

static mtask_rmutex owned;

static void *try_to_enter(void *arg) {
    (void)arg;
    return pack((long)mtask_rmutex_lock_for(&owned, MTASK_NOWAIT));
}

static void *wait_as_an_owner(void *arg) {
    ck_assert_status(mtask_rmutex_lock(&owned), MTASK_OK);
    ck_assert_int_eq(unpack(call(mtask_pool_current(), try_to_enter, arg)), MTASK_TIMEOUT);
    ck_assert_uint_eq(mtask_rmutex_count(&owned), 1);
    ck_assert_status(mtask_rmutex_unlock(&owned), MTASK_OK);
    return NULL;
}

START_TEST(a_task_that_its_waiter_runs_has_no_part_in_its_locks) {
    mtask_pool *pool = open_pool(1, 0);
    call(pool, wait_as_an_owner, NULL);
    end(pool);
}
END_TEST

static void *wait_for_some_time(void *arg) {
    sight inner, outer;
    mtask_future *future = submit(mtask_pool_current(), look, &inner);
    look(&outer);
    ck_assert_status(mtask_future_get(future, NULL, MTASK_SEC(600)), MTASK_OK);
    mtask_future_release(future);
    ck_assert(!pthread_equal(inner.thread, outer.thread));
    return arg;
}

START_TEST(a_wait_with_a_timeout_leaves_the_work_to_another_thread) {
    mtask_pool *pool = open_pool(1, 1);
    for (long i = 0; i < 20; i++)
        call(pool, wait_for_some_time, NULL);
    end(pool);
}
END_TEST

static void *wait_in_vain(void *arg) {
    mtask_event *gate = (mtask_event *)arg;
    mtask_future *future = make_promise();
    int64_t start = mtask_now();
    ck_assert_status(mtask_future_get(future, NULL, MTASK_MS(20)), MTASK_TIMEOUT);
    ck_assert_status(mtask_future_wait(future, MTASK_MS(20)), MTASK_TIMEOUT);
    ck_assert_status(mtask_futures_wait(&future, 1, MTASK_WAIT_ALL, MTASK_MS(20)), MTASK_TIMEOUT);
    ck_assert_status(mtask_futures_wait(&future, 1, MTASK_WAIT_ANY, MTASK_MS(20)), MTASK_TIMEOUT);
    ck_assert_int_ge(mtask_now() - start, MTASK_MS(80));
    mtask_future_release(future);
    mtask_event_set(gate);
    return NULL;
}

START_TEST(a_wait_in_a_task_ends_when_its_time_is_up) {
    mtask_pool *pool = open_pool(2, 0);
    static mtask_event gate;
    ck_assert_status(mtask_pool_post(pool, wait_in_vain, &gate), MTASK_OK);
    pass_gate(&gate);
    end(pool);
}
END_TEST

static void *pass_the_gate(void *arg) {
    pass_gate((mtask_event *)arg);
    return arg;
}

/* The task that is waited for runs already, and for longer than the waiter waits. */
static void *wait_too_short(void *arg) {
    mtask_event *gate = (mtask_event *)arg;
    mtask_future *slow = submit(mtask_pool_current(), pass_the_gate, gate);
    while (!mtask_future_running(slow)) /* the other worker takes it */
        testing_pause(1);
    ck_assert_status(mtask_future_get(slow, NULL, MTASK_MS(10)), MTASK_TIMEOUT);
    ck_assert(!mtask_future_done(slow));
    mtask_event_set(gate);
    ck_assert_ptr_eq(take(slow), gate);
    return NULL;
}

START_TEST(what_is_waited_for_goes_on_after_the_timeout) {
    mtask_pool *pool = open_pool(2, 0);
    static mtask_event gate;
    call(pool, wait_too_short, &gate);
    end(pool);
}
END_TEST

/* ---- all that waits, in workers ---- */

static void *sleep_a_little(void *arg) {
    testing_pause(1);
    return arg;
}

static void *wait_for_any(void *arg) {
    mtask_future *futures[20];
    size_t count = unpack(arg) % 2 == 0 ? 3 : 20;
    bool found = false;
    for (size_t i = 0; i < count; i++)
        futures[i] = submit(mtask_pool_current(), i == 0 ? sleep_a_little : plus_one, pack(5));
    ck_assert_status(mtask_futures_wait(futures, count, MTASK_WAIT_ANY, MTASK_FOREVER), MTASK_OK);
    for (size_t i = 0; i < count; i++)
        found |= mtask_future_done(futures[i]);
    ck_assert(found);
    for (size_t i = 0; i < count; i++)
        ck_assert_int_eq(unpack(take(futures[i])), i == 0 ? 5 : 6);
    return NULL;
}

static void *wait_for_first_failure(void *arg) {
    mtask_future *futures[3];
    futures[0] = submit(mtask_pool_current(), plus_one, arg);
    futures[1] = submit(mtask_pool_current(), fail_with_text, arg);
    futures[2] = make_promise();
    ck_assert_status(mtask_futures_wait(futures, 3, MTASK_WAIT_FIRST_FAILURE, MTASK_FOREVER),
                     MTASK_OK);
    ck_assert(mtask_future_done(futures[1]));
    ck_assert(!mtask_future_done(futures[2]));
    for (int i = 0; i < 3; i++)
        mtask_future_release(futures[i]);
    return NULL;
}

static void *wait_for_all_of_many(void *arg) {
    mtask_future *futures[40];
    for (long i = 0; i < 40; i++)
        futures[i] = submit(mtask_pool_current(), i % 8 == 0 ? plus_one_nested : plus_one, pack(i));
    ck_assert_status(mtask_futures_wait(futures, 40, MTASK_WAIT_ALL, MTASK_FOREVER), MTASK_OK);
    for (long i = 0; i < 40; i++) {
        ck_assert(mtask_future_done(futures[i]));
        ck_assert_int_eq(unpack(take(futures[i])), i + 1);
    }
    return arg;
}

static void *count_one(void *arg) {
    COUNT((long *)arg);
    return NULL;
}

/* A member that adds another member, as often as the counter says. */
typedef struct growth {
    mtask_group group;
    long left;
    long done;
} growth;

static void *grow(void *arg) {
    growth *self = (growth *)arg;
    COUNT(&self->done);
    if (__atomic_sub_fetch(&self->left, 1, __ATOMIC_ACQ_REL) >= 0)
        ck_assert_status(mtask_group_post(&self->group, grow, self), MTASK_OK);
    return NULL;
}

static void *wait_for_group(void *arg) {
    mtask_group group;
    growth growing = {.left = 30};
    long count = 0;
    ck_assert_status(mtask_group_init(&group, mtask_pool_current(), 0), MTASK_OK);
    ck_assert_status(mtask_group_init(&growing.group, mtask_pool_current(), 0), MTASK_OK);
    for (int i = 0; i < 20; i++)
        ck_assert_status(mtask_group_post(&group, count_one, &count), MTASK_OK);
    ck_assert_status(mtask_group_post(&growing.group, grow, &growing), MTASK_OK);
    ck_assert_status(mtask_group_wait(&group, NULL, MTASK_FOREVER), MTASK_OK);
    ck_assert_int_eq(count, 20);
    ck_assert_status(mtask_group_wait(&growing.group, NULL, MTASK_FOREVER), MTASK_OK);
    ck_assert_int_eq(growing.done, 31);
    return arg;
}

/* Groups in tasks of groups in tasks of groups. */
static void *nest_groups(void *arg) {
    mtask_group group;
    long depth = unpack(arg);
    if (depth == 0)
        return NULL;
    ck_assert_status(mtask_group_init(&group, mtask_pool_current(), 0), MTASK_OK);
    for (int i = 0; i < 3; i++)
        ck_assert_status(mtask_group_post(&group, nest_groups, pack(depth - 1)), MTASK_OK);
    ck_assert_status(mtask_group_wait(&group, NULL, MTASK_FOREVER), MTASK_OK);
    return NULL;
}

static void *wait_for_completed(void *arg) {
    mtask_future *futures[12];
    mtask_completed *completed;
    mtask_future *future;
    bool seen[12] = {false};
    size_t at = 99;
    for (long i = 0; i < 12; i++)
        futures[i] = submit(mtask_pool_current(), i % 3 == 0 ? plus_one_nested : plus_one, pack(i));
    ck_assert_status(mtask_as_completed(futures, 12, &completed), MTASK_OK);
    for (int i = 0; i < 12; i++) {
        ck_assert_status(mtask_completed_next(completed, &future, &at, MTASK_FOREVER), MTASK_OK);
        testing_check(at < 12 && !seen[at] && future == futures[at]);
        seen[at] = true;
    }
    ck_assert_status(mtask_completed_next(completed, &future, &at, MTASK_FOREVER), MTASK_DONE);
    mtask_completed_close(completed);
    for (long i = 0; i < 12; i++)
        ck_assert_int_eq(unpack(take(futures[i])), i + 1);
    return arg;
}

typedef struct source {
    long next;
    long end;
} source;

static mtask_status pull(void *in, void *ctx) {
    source *self = (source *)ctx;
    if (self->next == self->end)
        return MTASK_DONE;
    *(long *)in = self->next++;
    return MTASK_OK;
}

static void square(const void *in, void *out, void *ctx) {
    *(long *)out = *(const long *)in * *(const long *)in;
    (void)ctx;
}

/* An item that is work for a task. */
static void square_nested(const void *in, void *out, void *ctx) {
    square(in, out, ctx);
    ck_assert_int_eq(unpack(call(mtask_pool_current(), plus_one, pack(1))), 2);
}

static void iterate(bool unordered, size_t chunk) {
    source numbers = {0, 50};
    mtask_imap_desc desc = {0};
    mtask_imap *imap;
    mtask_item item;
    long sum = 0;
    desc.fn = chunk == 1 ? square_nested : square;
    desc.input = pull;
    desc.ctx = &numbers;
    desc.in_size = desc.out_size = sizeof(long);
    desc.unordered = unordered;
    desc.chunk = chunk;
    ck_assert_status(mtask_pool_imap(mtask_pool_current(), &desc, &imap), MTASK_OK);
    for (long i = 0; i < 50; i++) {
        ck_assert_status(mtask_imap_next(imap, &item, MTASK_FOREVER), MTASK_OK);
        testing_check(unordered || item.index == (size_t)i);
        testing_check(*(const long *)item.out == (long)(item.index * item.index));
        sum += (long)item.index;
    }
    ck_assert_status(mtask_imap_next(imap, &item, MTASK_FOREVER), MTASK_DONE);
    ck_assert_int_eq(sum, 49 * 50 / 2);
    mtask_imap_close(imap);
}

static void *wait_for_imaps(void *arg) {
    iterate(false, 1);
    iterate(false, 7);
    iterate(true, 1);
    iterate(true, 7);
    return arg;
}

static void *wait_for_maps(void *arg) {
    long in[100], out[100];
    mtask_map_desc map = {0};
    mtask_future *future;
    for (long i = 0; i < 100; i++)
        in[i] = i;
    map.fn = square_nested;
    map.count = 100;
    map.in = in;
    map.out = out;
    map.in_size = map.out_size = sizeof(long);
    for (int round = 0; round < 3; round++) {
        map.chunk = (size_t)round * 10;
        memset(out, 0, sizeof out);
        if (round < 2) {
            ck_assert_status(mtask_pool_map(mtask_pool_current(), &map, NULL), MTASK_OK);
        } else {
            ck_assert_status(mtask_pool_map_async(mtask_pool_current(), &map, &future), MTASK_OK);
            take(future);
        }
        for (long i = 0; i < 100; i++)
            testing_check(out[i] == i * i);
    }
    return arg;
}

static void add_nested(size_t begin, size_t end, void *into, void *ctx) {
    for (size_t i = begin; i < end; i++)
        *(long *)into += unpack(call(mtask_pool_current(), plus_one, pack((long)i)));
    (void)ctx;
}

static void add_sums(void *into, const void *later, void *ctx) {
    *(long *)into += *(const long *)later;
    (void)ctx;
}

static void count_indices(size_t begin, size_t end, void *ctx) {
    for (size_t i = begin; i < end; i++)
        COUNT((long *)ctx);
}

static void *wait_for_loops(void *arg) {
    const long zero = 0;
    long sum = -1, count = 0;
    mtask_for_desc loop = {0};
    loop.end = 200;
    loop.grain = 10;
    loop.fold = add_nested;
    loop.combine = add_sums;
    loop.identity = &zero;
    loop.size = sizeof zero;
    ck_assert_status(mtask_pool_reduce(mtask_pool_current(), &loop, &sum, NULL), MTASK_OK);
    ck_assert_int_eq(sum, 200 * 201 / 2);
    ck_assert_status(mtask_pool_for(mtask_pool_current(), 0, 1000, count_indices, &count),
                     MTASK_OK);
    ck_assert_int_eq(count, 1000);
    return arg;
}

/* Each of these waits in its own way, in tasks that run at once; and each works also for one worker
   alone. */
static void check_wait(mtask_fn fn, long arg) {
    for (unsigned workers = 1; workers <= MOST_WORKERS; workers++) {
        mtask_pool *pool = open_pool(workers, 0);
        mtask_future *futures[6];
        for (int i = 0; i < 6; i++)
            futures[i] = submit(pool, fn, pack(arg));
        for (int i = 0; i < 6; i++)
            take(futures[i]);
        end(pool);
    }
}

START_TEST(tasks_wait_for_several_futures) {
    check_wait(wait_for_any, 0);
    check_wait(wait_for_any, 1);
    check_wait(wait_for_first_failure, 0);
    check_wait(wait_for_all_of_many, 0);
}
END_TEST

START_TEST(tasks_wait_for_groups) {
    check_wait(wait_for_group, 0);
    check_wait(nest_groups, 4);
}
END_TEST

START_TEST(tasks_iterate_over_what_ends) {
    check_wait(wait_for_completed, 0);
}
END_TEST

START_TEST(tasks_iterate_over_results) {
    check_wait(wait_for_imaps, 0);
}
END_TEST

START_TEST(tasks_map) {
    check_wait(wait_for_maps, 0);
}
END_TEST

START_TEST(tasks_loop) {
    check_wait(wait_for_loops, 0);
}
END_TEST

/* A map in each item of a map. */
static void map_below(const void *in, void *out, void *ctx) {
    long numbers[10], squares[10];
    mtask_map_desc map = {0};
    for (long i = 0; i < 10; i++)
        numbers[i] = *(const long *)in + i;
    map.fn = square;
    map.count = 10;
    map.in = numbers;
    map.out = squares;
    map.in_size = map.out_size = sizeof(long);
    map.chunk = 1;
    ck_assert_status(mtask_pool_map(mtask_pool_current(), &map, NULL), MTASK_OK);
    *(long *)out = 0;
    for (int i = 0; i < 10; i++)
        *(long *)out += squares[i];
    (void)ctx;
}

START_TEST(a_map_may_stand_in_the_items_of_a_map) {
    for (unsigned workers = 1; workers <= MOST_WORKERS; workers++) {
        mtask_pool *pool = open_pool(workers, 0);
        long in[20], out[20];
        mtask_map_desc map = {0};
        for (long i = 0; i < 20; i++)
            in[i] = 10 * i;
        map.fn = map_below;
        map.count = 20;
        map.in = in;
        map.out = out;
        map.in_size = map.out_size = sizeof(long);
        ck_assert_status(mtask_pool_map(pool, &map, NULL), MTASK_OK);
        for (long i = 0; i < 20; i++) /* of (10 i + j)^2, for j < 10 */
            ck_assert_int_eq(out[i], 10 * (10 * i) * (10 * i) + 2 * 45 * 10 * i + 285);
        end(pool);
    }
}
END_TEST

/* ---- jobs and tasks ---- */

static void *job_that_waits(void *arg) {
    return call(mtask_pool_current(), plus_one_nested, arg);
}

static void *task_with_jobs(void *arg) {
    mtask_job jobs[8];
    void *value;
    long sum = 0;
    for (long i = 0; i < 8; i++)
        ck_assert_status(mtask_job_spawn(&jobs[i], job_that_waits, pack(unpack(arg) + i)),
                         MTASK_OK);
    sum += unpack(call(mtask_pool_current(), plus_one, arg)); /* with jobs below */
    for (int i = 7; i >= 0; i--) {
        ck_assert_status(mtask_job_sync(&jobs[i], &value), MTASK_OK);
        sum += unpack(value);
    }
    return pack(sum);
}

/* A task that its waiter runs finds that one's jobs below its own. */
static void *job_with_task_with_jobs(void *arg) {
    return call(mtask_pool_current(), task_with_jobs, arg);
}

static void *task_with_jobs_with_tasks(void *arg) {
    mtask_job jobs[3];
    void *value;
    long sum = 0;
    for (long i = 0; i < 3; i++)
        ck_assert_status(mtask_job_spawn(&jobs[i], job_with_task_with_jobs, pack(unpack(arg) + i)),
                         MTASK_OK);
    sum += unpack(call(mtask_pool_current(), task_with_jobs, arg));
    for (int i = 2; i >= 0; i--) {
        ck_assert_status(mtask_job_sync(&jobs[i], &value), MTASK_OK);
        sum += unpack(value);
    }
    return pack(sum);
}

START_TEST(jobs_wait_for_tasks_and_tasks_spawn_jobs) {
    for (unsigned workers = 1; workers <= MOST_WORKERS; workers++) {
        mtask_pool *pool = open_pool(workers, 0);
        mtask_future *futures[10];
        for (long i = 0; i < 10; i++)
            futures[i] = submit(pool, task_with_jobs_with_tasks, pack(i));
        for (long i = 0; i < 10; i++) /* four of 9 n + 37, for n = i, i, i + 1, i + 2 */
            ck_assert_int_eq(unpack(take(futures[i])), 36 * i + 27 + 4 * 37);
        end(pool);
    }
}
END_TEST

/* ---- locks that a waiter holds ---- */

static mtask_mutex lock_m, lock_l;
static long entered; /* by those who need lock_m */

static void *need_m(void *arg) {
    ck_assert_status(mtask_mutex_lock(&lock_m), MTASK_OK);
    COUNT(&entered);
    ck_assert_status(mtask_mutex_unlock(&lock_m), MTASK_OK);
    return arg;
}

static void *need_l(void *arg) {
    ck_assert_status(mtask_mutex_lock(&lock_l), MTASK_OK);
    ck_assert_status(mtask_mutex_unlock(&lock_l), MTASK_OK);
    return arg;
}

static void post_those_who_need_m(void) {
    for (int i = 0; i < 5; i++)
        ck_assert_status(mtask_pool_post(mtask_pool_current(), need_m, NULL), MTASK_OK);
}

/* Things to wait for that nobody has begun, between those who need m. */
static void wait_for_one_future(int way) {
    mtask_future *needed = submit(mtask_pool_current(), need_l, NULL);
    post_those_who_need_m();
    ck_assert_status(wait_somehow(needed, way), MTASK_OK);
    mtask_future_release(needed);
}

static void wait_for_small_group(void) {
    mtask_group group;
    ck_assert_status(mtask_group_init(&group, mtask_pool_current(), 0), MTASK_OK);
    for (int i = 0; i < 3; i++)
        ck_assert_status(mtask_group_post(&group, need_l, NULL), MTASK_OK);
    post_those_who_need_m();
    ck_assert_status(mtask_group_wait(&group, NULL, MTASK_FOREVER), MTASK_OK);
}

/* Not among them: waits for the first of several, which run nothing themselves. */
#define MORE_WAYS (WAYS + 4)

/* With m held, and others who need it in front of what it waits for. */
static void *hold_m_and_wait(void *arg) {
    int way = (int)unpack(arg);
    ck_assert_status(mtask_mutex_lock(&lock_m), MTASK_OK);
    post_those_who_need_m();
    if (way < WAYS)
        wait_for_one_future(way);
    else if (way == WAYS)
        wait_for_small_group();
    else if (way == WAYS + 1)
        wait_for_imaps(NULL);
    else if (way == WAYS + 2)
        wait_for_maps(NULL);
    else
        wait_for_loops(NULL);
    ck_assert_int_eq(READ(&entered), 0);
    ck_assert_status(mtask_mutex_unlock(&lock_m), MTASK_OK);
    return NULL;
}

START_TEST(a_waiter_that_holds_a_lock_runs_nobody_else_who_needs_it) {
    for (unsigned workers = 1; workers <= 3; workers++) {
        mtask_pool *pool = open_pool(workers, 2);
        WRITE(&entered, 0);
        call(pool, hold_m_and_wait, pack(_i));
        end(pool);
        ck_assert_int_eq(READ(&entered), _i <= WAYS ? 10 : 5);
    }
}
END_TEST

/* The same, but what it waits for runs elsewhere, and is slow: threads that stand in for the waiter
   meet the others. */
typedef struct slow_errand {
    mtask_event began;
    mtask_event may_end;
} slow_errand;

static void *be_slow(void *arg) {
    slow_errand *self = (slow_errand *)arg;
    mtask_event_set(&self->began);
    pass_gate(&self->may_end);
    return need_l(NULL);
}

static void *hold_m_and_block(void *arg) {
    slow_errand *errand = (slow_errand *)arg;
    mtask_future *needed;
    ck_assert_status(mtask_mutex_lock(&lock_m), MTASK_OK);
    needed = submit(mtask_pool_current(), be_slow, errand);
    pass_gate(&errand->began); /* the other worker has it */
    for (int i = 0; i < 10; i++)
        ck_assert_status(mtask_pool_post(mtask_pool_current(), need_m, NULL), MTASK_OK);
    take(needed);
    ck_assert_int_eq(READ(&entered), 0);
    ck_assert_status(mtask_mutex_unlock(&lock_m), MTASK_OK);
    return NULL;
}

START_TEST(a_waiter_that_blocks_with_a_lock_held_goes_on) {
    mtask_pool *pool = open_pool(2, 3);
    slow_errand errand;
    mtask_future *holder;
    memset(&errand, 0, sizeof errand);
    WRITE(&entered, 0);
    holder = submit(pool, hold_m_and_block, &errand);
    await_waiting(pool, 1);
    mtask_event_set(&errand.may_end);
    take(holder);
    end(pool);
    ck_assert_int_eq(READ(&entered), 10);
}
END_TEST

/* Who holds l waits, too; both waits end. */
static void *hold_l_and_wait(void *arg) {
    ck_assert_status(mtask_mutex_lock(&lock_l), MTASK_OK);
    call(mtask_pool_current(), plus_one_nested, pack(1));
    ck_assert_status(mtask_mutex_unlock(&lock_l), MTASK_OK);
    return arg;
}

START_TEST(waiters_with_different_locks_do_not_get_in_each_others_way) {
    long rounds = testing_scale(100);
    for (unsigned workers = 2; workers <= MOST_WORKERS; workers++) {
        mtask_pool *pool = open_pool(workers, 0);
        for (long i = 0; i < rounds; i++) {
            mtask_future *futures[4];
            for (int j = 0; j < 4; j++)
                futures[j] = submit(pool, j % 2 == 0 ? hold_l_and_wait : need_l, NULL);
            for (int j = 0; j < 4; j++)
                take(futures[j]);
        }
        end(pool);
    }
}
END_TEST

/* ---- circles ---- */

#define RING_MOST 4

struct ring;

/* A task that waits for the next one of its ring. */
typedef struct ring_task {
    struct ring *ring;
    mtask_future *future;  /* its own */
    mtask_future *awaited; /* the next one's */
    mtask_status status;   /* of the wait */
} ring_task;

typedef struct ring {
    int count;
    int way;
    mtask_event published; /* the futures are there */
    mtask_barrier all;     /* all tasks have started; of 0 parties: they need not */
    ring_task tasks[RING_MOST];
} ring;

static void *wait_for_next(void *arg) {
    ring_task *self = (ring_task *)arg;
    pass_gate(&self->ring->published);
    if (self->ring->all.parties != 0)
        ck_assert_status(mtask_barrier_wait(&self->ring->all, NULL, MTASK_FOREVER), MTASK_OK);
    self->status = wait_somehow(self->awaited, self->ring->way);
    return self;
}

/* Runs a ring of `count` tasks, in turn on each of `pools`. Just one of them must be told, and the
   others get what they wait for. */
static void check_ring(mtask_pool *const *pools, int pool_count, int count, int way, bool at_once) {
    ring circle;
    int refusals = 0;
    memset(&circle, 0, sizeof circle);
    circle.count = count;
    circle.way = way;
    if (at_once)
        ck_assert_status(mtask_barrier_init(&circle.all, (uint32_t)count, NULL, NULL, 0), MTASK_OK);
    for (int i = 0; i < count; i++) {
        circle.tasks[i].ring = &circle;
        circle.tasks[i].future = submit(pools[i % pool_count], wait_for_next, &circle.tasks[i]);
    }
    for (int i = 0; i < count; i++)
        circle.tasks[i].awaited = circle.tasks[(i + 1) % count].future;
    mtask_event_set(&circle.published);
    for (int i = 0; i < count; i++) {
        mtask_outcome outcome;
        ck_assert_status(mtask_future_get(circle.tasks[i].future, &outcome, MTASK_FOREVER),
                         MTASK_OK);
        ck_assert_ptr_eq(outcome.value, &circle.tasks[i]);
    }
    for (int i = 0; i < count; i++) {
        mtask_future_release(circle.tasks[i].future);
        refusals += circle.tasks[i].status == MTASK_DEADLOCK;
        ck_assert(circle.tasks[i].status == MTASK_DEADLOCK || circle.tasks[i].status == MTASK_OK);
    }
    ck_assert_int_eq(refusals, 1);
}

START_TEST(a_task_cannot_wait_for_itself) {
    for (unsigned workers = 1; workers <= 2; workers++) {
        mtask_pool *pool = open_pool(workers, 0);
        for (int way = 0; way < WAYS; way++)
            check_ring(&pool, 1, 1, way, true);
        end(pool);
    }
}
END_TEST

START_TEST(tasks_that_wait_in_a_circle_are_told) {
    long rounds = testing_scale(150);
    for (int count = 2; count <= RING_MOST; count++) {
        mtask_pool *pool = open_pool((unsigned)count, 0);
        int64_t start = mtask_now();
        for (int round = 0; round < rounds && (round < WAYS || testing_has_time(start)); round++)
            check_ring(&pool, 1, count, round % WAYS, true);
        end(pool);
    }
}
END_TEST

START_TEST(a_circle_is_found_through_tasks_that_their_waiters_run) {
    for (int count = 2; count <= RING_MOST; count++)
        for (unsigned workers = 1; workers <= (unsigned)count; workers++) {
            mtask_pool *pool = open_pool(workers, 0);
            for (int way = 0; way < WAYS; way++)
                check_ring(&pool, 1, count, way, false);
            end(pool);
        }
}
END_TEST

START_TEST(a_circle_is_found_across_pools) {
    long rounds = testing_scale(100);
    for (int count = 2; count <= RING_MOST; count++)
        for (unsigned workers = 1; workers <= 2; workers++) {
            mtask_pool *pools[2] = {open_pool(workers, 0), open_pool(workers, 0)};
            int64_t start = mtask_now();
            bool fits = (unsigned)count <= 2 * workers; /* all of them can run at once */
            for (int round = 0; round < rounds && (round < WAYS || testing_has_time(start));
                 round++)
                check_ring(pools, 2, count, round % WAYS, fits && round % 2 == 0);
            end(pools[0]);
            end(pools[1]);
        }
}
END_TEST

/* A waits for B, which it runs itself; B for C, which runs elsewhere; C for A. */
typedef struct triangle {
    mtask_event b_runs;
    mtask_event c_runs;
    mtask_event published;
    mtask_future *a;
    mtask_future *c;
    pthread_t threads[3];
    mtask_status statuses[3];
} triangle;

static void *triangle_b(void *arg) {
    triangle *self = (triangle *)arg;
    self->threads[1] = pthread_self();
    mtask_event_set(&self->b_runs);
    self->statuses[1] = mtask_future_get(self->c, NULL, MTASK_FOREVER);
    return NULL;
}

static void *triangle_a(void *arg) {
    triangle *self = (triangle *)arg;
    mtask_future *b;
    self->threads[0] = pthread_self();
    pass_gate(&self->published);
    pass_gate(&self->c_runs);
    b = submit(mtask_pool_current(), triangle_b, self);
    self->statuses[0] = mtask_future_get(b, NULL, MTASK_FOREVER);
    mtask_future_release(b);
    return NULL;
}

static void *triangle_c(void *arg) {
    triangle *self = (triangle *)arg;
    self->threads[2] = pthread_self();
    pass_gate(&self->published);
    mtask_event_set(&self->c_runs);
    pass_gate(&self->b_runs);
    self->statuses[2] = mtask_future_get(self->a, NULL, MTASK_FOREVER);
    return NULL;
}

START_TEST(a_circle_may_close_above_a_task_that_its_waiter_runs) {
    long rounds = testing_scale(200);
    mtask_pool *pool = open_pool(2, 0);
    int64_t start = mtask_now();
    for (int round = 0; round < rounds && (round < 3 || testing_has_time(start)); round++) {
        triangle three;
        int refusals = 0;
        memset(&three, 0, sizeof three);
        three.a = submit(pool, triangle_a, &three);
        three.c = submit(pool, triangle_c, &three);
        mtask_event_set(&three.published);
        await(three.a);
        take(three.c);
        mtask_future_release(three.a);
        ck_assert(pthread_equal(three.threads[0], three.threads[1]));
        ck_assert(!pthread_equal(three.threads[0], three.threads[2]));
        ck_assert_status(three.statuses[0], MTASK_OK); /* it did run B */
        for (int i = 1; i < 3; i++)
            refusals += three.statuses[i] == MTASK_DEADLOCK;
        ck_assert_int_eq(refusals, 1);
    }
    end(pool);
}
END_TEST

/* ---- what looks like a circle and is none ---- */

static void *wait_for_arg(void *arg) {
    return await((mtask_future *)arg);
}

START_TEST(many_tasks_may_wait_for_one) {
    for (unsigned workers = 1; workers <= MOST_WORKERS; workers++) {
        mtask_pool *pool = open_pool(workers, 0);
        static mtask_event gate;
        mtask_future *futures[20];
        mtask_future *one;
        mtask_event_clear(&gate);
        one = submit(pool, pass_the_gate, &gate);
        for (int i = 0; i < 20; i++) /* each for the first one, or for one that waits itself */
            futures[i] = submit(pool, wait_for_arg, i < 5 ? one : futures[i - 5]);
        if (workers > 1)
            await_waiting(pool, 20);
        mtask_event_set(&gate);
        for (int i = 0; i < 20; i++)
            ck_assert_ptr_eq(await(futures[i]), &gate);
        for (int i = 0; i < 20; i++)
            mtask_future_release(futures[i]);
        mtask_future_release(one);
        end(pool);
    }
}
END_TEST

/* Two tasks wait for each other, but one of them has another way out. */
typedef struct pair {
    mtask_event published;
    mtask_barrier both; /* have started: neither runs the other */
    mtask_future *first;
    mtask_future *second;
    mtask_future *promise;
    mtask_status statuses[2];
} pair;

static void pair_begin(pair *self) {
    pass_gate(&self->published);
    ck_assert_status(mtask_barrier_wait(&self->both, NULL, MTASK_FOREVER), MTASK_OK);
}

static void *wait_for_second_or_promise(void *arg) {
    pair *self = (pair *)arg;
    mtask_future *either[2];
    pair_begin(self);
    either[0] = self->second;
    either[1] = self->promise;
    self->statuses[0] = mtask_futures_wait(either, 2, MTASK_WAIT_ANY, MTASK_FOREVER);
    return NULL;
}

static void *wait_for_second_a_little(void *arg) {
    pair *self = (pair *)arg;
    pair_begin(self);
    self->statuses[0] = mtask_future_get(self->second, NULL, MTASK_MS(50));
    return NULL;
}

/* Waits when the first one waits. */
static void *wait_for_first(void *arg) {
    pair *self = (pair *)arg;
    pair_begin(self);
    while (stats_of(mtask_pool_current()).waiting != 1 && !mtask_future_done(self->first))
        testing_pause(1);
    self->statuses[1] = mtask_future_get(self->first, NULL, MTASK_FOREVER);
    return NULL;
}

/* Runs a pair whose first task is `fn`, in a pool with two workers. */
static void run_pair(pair *self, mtask_fn fn) {
    mtask_pool *pool = open_pool(2, 0);
    memset(self, 0, sizeof *self);
    self->promise = make_promise();
    ck_assert_status(mtask_barrier_init(&self->both, 2, NULL, NULL, 0), MTASK_OK);
    self->first = submit(pool, fn, self);
    self->second = submit(pool, wait_for_first, self);
    mtask_event_set(&self->published);
    if (fn == wait_for_second_or_promise) {
        await_waiting(pool, 2);
        keep_promise(self->promise, 1);
    }
    await(self->first);
    await(self->second);
    mtask_future_release(self->first);
    mtask_future_release(self->second);
    mtask_future_release(self->promise);
    end(pool);
}

START_TEST(a_wait_for_any_that_may_end_otherwise_closes_no_circle) {
    pair both;
    run_pair(&both, wait_for_second_or_promise);
    ck_assert_status(both.statuses[0], MTASK_OK);
    ck_assert_status(both.statuses[1], MTASK_OK);
}
END_TEST

START_TEST(a_wait_with_a_timeout_closes_no_circle) {
    pair both;
    run_pair(&both, wait_for_second_a_little);
    ck_assert_status(both.statuses[0], MTASK_TIMEOUT);
    ck_assert_status(both.statuses[1], MTASK_OK);
}
END_TEST

/* Submits a task to the other pool and waits for it; in turn, until the count is 0. */
typedef struct ping {
    mtask_pool *pools[2];
    long left;
} ping;

static void *play_ping_pong(void *arg) {
    ping *self = (ping *)arg;
    long left = self->left--;
    ck_assert(mtask_pool_current() == self->pools[left % 2]);
    if (left > 0)
        ck_assert_ptr_eq(call(self->pools[(left + 1) % 2], play_ping_pong, self), self);
    return self;
}

START_TEST(tasks_of_two_pools_wait_for_each_others_tasks) {
    for (unsigned workers = 1; workers <= 2; workers++) {
        ping game;
        game.pools[0] = open_pool(workers, 0);
        game.pools[1] = open_pool(workers, 0);
        for (long left = 0; left < 60; left += 7) {
            game.left = left;
            call(game.pools[left % 2], play_ping_pong, &game);
        }
        end(game.pools[0]);
        end(game.pools[1]);
    }
}
END_TEST

/* ---- circles through groups and jobs ---- */

typedef struct own_group {
    mtask_group group;
    mtask_status status;
} own_group;

static void *wait_for_own_group(void *arg) {
    own_group *self = (own_group *)arg;
    self->status = mtask_group_wait(&self->group, NULL, MTASK_FOREVER);
    return NULL;
}

START_TEST(a_task_cannot_wait_for_its_own_group) {
    for (unsigned workers = 1; workers <= 2; workers++) {
        mtask_pool *pool = open_pool(workers, 0);
        own_group own;
        memset(&own, 0, sizeof own);
        ck_assert_status(mtask_group_init(&own.group, pool, 0), MTASK_OK);
        ck_assert_status(mtask_group_post(&own.group, wait_for_own_group, &own), MTASK_OK);
        ck_assert_status(mtask_group_wait(&own.group, NULL, MTASK_FOREVER), MTASK_OK);
        ck_assert_status(own.status, MTASK_DEADLOCK);
        end(pool);
    }
}
END_TEST

typedef struct own_job {
    mtask_event published;
    mtask_event began;
    mtask_future *task;
    bool stolen; /* wait until another worker has the job */
    mtask_status status;
} own_job;

static void *wait_for_own_task(void *arg) {
    own_job *self = (own_job *)arg;
    mtask_event_set(&self->began);
    self->status = mtask_future_get(self->task, NULL, MTASK_FOREVER);
    return NULL;
}

static void *spawn_what_waits_for_it(void *arg) {
    own_job *self = (own_job *)arg;
    mtask_job job;
    pass_gate(&self->published);
    ck_assert_status(mtask_job_spawn(&job, wait_for_own_task, self), MTASK_OK);
    if (self->stolen)
        pass_gate(&self->began);
    ck_assert_status(mtask_job_sync(&job, NULL), MTASK_OK);
    return NULL;
}

static mtask_status status_of_own_job(unsigned workers, bool stolen) {
    mtask_pool *pool = open_pool(workers, 0);
    own_job own;
    memset(&own, 0, sizeof own);
    own.stolen = stolen;
    own.task = submit(pool, spawn_what_waits_for_it, &own);
    mtask_event_set(&own.published);
    take(own.task);
    end(pool);
    return own.status;
}

START_TEST(a_job_cannot_wait_for_its_own_task) {
    ck_assert_status(status_of_own_job(1, false), MTASK_DEADLOCK);
}
END_TEST

START_TEST(a_stolen_job_cannot_wait_for_its_own_task) {
    for (int i = 0; i < 20; i++)
        ck_assert_status(status_of_own_job(2, true), MTASK_DEADLOCK);
}
END_TEST

/* ---- the bound ---- */

typedef struct crowded {
    mtask_future *promise;
    int way;
    long kept;    /* waits that got the value */
    long refused; /* that would never have ended */
} crowded;

static void *wait_for_promise(void *arg) {
    crowded *self = (crowded *)arg;
    mtask_status status = wait_somehow(self->promise, self->way);
    if (status == MTASK_DEADLOCK)
        COUNT(&self->refused);
    else
        COUNT(&self->kept);
    ck_assert(status == MTASK_OK || status == MTASK_DEADLOCK);
    return NULL;
}

/* So many more tasks than threads wait for a promise. */
static void check_bound(unsigned workers, unsigned spare, int way, long more) {
    mtask_pool *pool = open_pool(workers, spare);
    crowded full = {.way = way};
    long most = (long)workers + (long)spare - 1;
    full.promise = make_promise();
    for (long i = 0; i < most + more; i++)
        ck_assert_status(mtask_pool_post(pool, wait_for_promise, &full), MTASK_OK);
    while (READ(&full.refused) < more)
        testing_pause(1);
    await_waiting(pool, (unsigned)most);
    ck_assert_uint_le(stats_of(pool).threads, workers + spare);
    check_usable(pool); /* by the thread that is left */
    ck_assert_uint_le(stats_of(pool).threads, workers + spare);
    ck_assert_int_eq(READ(&full.kept), 0);
    keep_promise(full.promise, 1);
    end(pool);
    ck_assert_int_eq(full.kept, most);
    ck_assert_int_eq(full.refused, more);
    mtask_future_release(full.promise);
}

START_TEST(the_wait_that_would_leave_no_thread_is_refused) {
    for (unsigned workers = 1; workers <= 3; workers++)
        for (unsigned spare = 1; spare <= 3; spare++)
            check_bound(workers, spare, (int)(3 * workers + spare) % WAYS, 1 + spare % 3);
}
END_TEST

START_TEST(as_many_as_may_wait_all_get_their_value) {
    check_bound(1, 1, 0, 0);
    check_bound(2, 20, 0, 0);
    check_bound(4, 0 + 64, 0, 0);
}
END_TEST

static void *hold_and_take_fresh(void *arg) {
    mtask_future *fresh = submit(mtask_pool_current(), plus_one, pack(1));
    pass_gate((mtask_event *)arg);
    ck_assert_int_eq(unpack(take(fresh)), 2);
    return NULL;
}

/* What a waiter can run itself needs no other thread, so no bound matters. */
START_TEST(the_bound_does_not_matter_to_who_runs_what_it_waits_for) {
    mtask_pool *pool = open_pool(1, 1);
    crowded full = {.way = 0};
    static mtask_event gate;
    mtask_future *last;
    full.promise = make_promise();
    ck_assert_status(mtask_pool_post(pool, wait_for_promise, &full), MTASK_OK);
    await_waiting(pool, 1);
    last = submit(pool, hold_and_take_fresh, &gate); /* on the last thread that there may be */
    mtask_event_set(&gate);
    take(last);
    keep_promise(full.promise, 1);
    end(pool);
    mtask_future_release(full.promise);
}
END_TEST

/* ---- threads that stand in ---- */

START_TEST(nobody_stands_in_until_there_is_work) {
    for (unsigned workers = 1; workers <= 3; workers++) {
        mtask_pool *pool = open_pool(workers, 0);
        crowded full = {.way = 0};
        full.promise = make_promise();
        await_idle(pool, workers); /* they have come up */
        for (unsigned i = 0; i < workers; i++) {
            ck_assert_status(mtask_pool_post(pool, wait_for_promise, &full), MTASK_OK);
            await_waiting(pool, i + 1);
        }
        testing_pause(20);
        ck_assert_uint_eq(stats_of(pool).threads, workers);
        ck_assert_int_eq(unpack(call(pool, plus_one, pack(1))), 2); /* now there is */
        ck_assert_uint_eq(stats_of(pool).waiting, workers);
        keep_promise(full.promise, 1);
        end(pool);
        ck_assert_int_eq(full.kept, (long)workers);
        mtask_future_release(full.promise);
    }
}
END_TEST

START_TEST(who_stood_in_ends_when_not_needed) {
    mtask_pool *pool = open_pool(2, 16);
    for (int round = 0; round < 3; round++) {
        crowded full = {.way = round};
        full.promise = make_promise();
        for (int i = 0; i < 12; i++)
            ck_assert_status(mtask_pool_post(pool, wait_for_promise, &full), MTASK_OK);
        await_waiting(pool, 12);
        ck_assert_uint_ge(stats_of(pool).threads, 12);
        ck_assert_uint_le(stats_of(pool).threads, 18);
        keep_promise(full.promise, 1);
        await_workers_alone(pool);
        ck_assert_uint_eq(stats_of(pool).waiting, 0);
        mtask_future_release(full.promise);
    }
    end(pool);
}
END_TEST

static long hooks; /* inits without their deinits */
static long most_hooks;

static void *count_init(void *arg) {
    long now = __atomic_add_fetch(&hooks, 1, __ATOMIC_ACQ_REL);
    if (now > READ(&most_hooks))
        WRITE(&most_hooks, now);
    return arg;
}

static void count_deinit(void *ctx) {
    (void)__atomic_fetch_sub(&hooks, 1, __ATOMIC_ACQ_REL);
    (void)ctx;
}

START_TEST(who_stands_in_is_initialised_like_the_others) {
    mtask_pool_desc desc = {.workers = 1, .init = count_init, .deinit = count_deinit};
    crowded full = {.way = 0};
    mtask_pool *pool;
    ck_assert_status(mtask_pool_create(&pool, &desc), MTASK_OK);
    full.promise = make_promise();
    for (int i = 0; i < 5; i++)
        ck_assert_status(mtask_pool_post(pool, wait_for_promise, &full), MTASK_OK);
    await_waiting(pool, 5);
    ck_assert_int_ge(READ(&hooks), 5);
    keep_promise(full.promise, 1);
    await_workers_alone(pool);
    while (READ(&hooks) != 1)
        testing_pause(1);
    end(pool);
    ck_assert_int_eq(READ(&hooks), 0);
    ck_assert_int_ge(READ(&most_hooks), 5);
    mtask_future_release(full.promise);
}
END_TEST

typedef struct sleeper {
    mtask_future *promise;
    pthread_t thread;
    bool began;
} sleeper;

static void *sleep_for_promise(void *arg) {
    sleeper *self = (sleeper *)arg;
    self->thread = pthread_self();
    WRITE(&self->began, true);
    return wait_for_arg(self->promise);
}

START_TEST(a_task_that_waits_uses_no_cpu) {
    mtask_pool *pool = open_pool(1, 2);
    sleeper one = {.promise = make_promise()};
    mtask_future *future = submit(pool, sleep_for_promise, &one);
    int64_t used;
    await_waiting(pool, 1);
    testing_pause(20);
    ck_assert(READ(&one.began));
    used = testing_cpu_time(one.thread);
    testing_pause(60);
    ck_assert_int_le(testing_cpu_time(one.thread) - used, MTASK_MS(3));
    keep_promise(one.promise, 5);
    ck_assert_int_eq(unpack(take(future)), 5);
    mtask_future_release(one.promise);
    end(pool);
}
END_TEST

/* ---- what is not made by the pool ---- */

static void keep_later(testing_member *self) {
    testing_pause(10);
    keep_promise((mtask_future *)self->arg, 7);
}

START_TEST(a_task_waits_for_what_another_thread_promised) {
    for (unsigned workers = 1; workers <= 2; workers++)
        for (int way = 0; way < WAYS; way++) {
            mtask_pool *pool = open_pool(workers, 1);
            crowded full = {.way = way};
            testing_crowd crowd;
            full.promise = make_promise();
            testing_crowd_start(&crowd, 1, keep_later, full.promise);
            call(pool, wait_for_promise, &full);
            ck_assert_int_eq(full.kept, 1);
            testing_crowd_join(&crowd);
            mtask_future_release(full.promise);
            end(pool);
        }
}
END_TEST

START_TEST(a_task_waits_for_what_a_later_task_keeps) {
    for (unsigned workers = 1; workers <= 2; workers++) {
        mtask_pool *pool = open_pool(workers, 0);
        mtask_future *promises[4];
        mtask_future *waiters[4];
        for (int i = 0; i < 4; i++) {
            promises[i] = make_promise();
            waiters[i] = submit(pool, wait_for_arg, promises[i]);
        }
        if (workers == 2)
            await_waiting(pool, 4); /* they wait before there is anybody who could keep it */
        for (int i = 0; i < 4; i++)
            ck_assert_status(mtask_pool_post(pool, keep_with_nine, promises[i]), MTASK_OK);
        for (int i = 0; i < 4; i++) {
            ck_assert_int_eq(unpack(take(waiters[i])), 9);
            mtask_future_release(promises[i]);
        }
        end(pool);
    }
}
END_TEST

static void *answer_from_a_thread(void *arg) {
    testing_pause(5);
    return arg;
}

static void *wait_for_a_thread(void *arg) {
    mtask_future *future = NULL;
    mtask_thread_desc desc = {.fn = answer_from_a_thread, .arg = arg, .future = &future};
    ck_assert_status(mtask_thread_start_ex(NULL, &desc), MTASK_OK);
    return take(future);
}

START_TEST(a_task_waits_for_a_thread) {
    mtask_pool *pool = open_pool(1, 0);
    mtask_future *futures[4];
    for (long i = 0; i < 4; i++)
        futures[i] = submit(pool, wait_for_a_thread, pack(i));
    for (long i = 0; i < 4; i++)
        ck_assert_int_eq(unpack(take(futures[i])), i);
    end(pool);
}
END_TEST

/* ---- the end of a pool in which tasks wait ---- */

typedef struct cut_off {
    mtask_event gate;
    mtask_future *awaited; /* in the backlog */
    mtask_status status;
} cut_off;

static void *wait_for_what_is_cut_off(void *arg) {
    cut_off *self = (cut_off *)arg;
    pass_gate(&self->gate);
    self->status = mtask_future_wait(self->awaited, MTASK_SEC(600)); /* so others are to run it */
    return NULL;
}

/* A task waits for one that will not be started any more; `cut` sees to that. */
static void check_cut_off(void (*cut)(mtask_pool *pool, mtask_future *awaited)) {
    mtask_pool *pool = open_pool(1, 1);
    cut_off self;
    mtask_event gate;
    mtask_future *waiter;
    memset(&self, 0, sizeof self);
    memset(&gate, 0, sizeof gate);
    waiter = submit(pool, wait_for_what_is_cut_off, &self);
    ck_assert_status(mtask_pool_post(pool, pass_the_gate, &gate), MTASK_OK);
    self.awaited = submit(pool, plus_one, NULL);
    mtask_event_set(&self.gate);
    await_waiting(pool, 1);
    while (stats_of(pool).pending != 1) /* who stands in is at the gate */
        testing_pause(1);
    cut(pool, self.awaited);
    take(waiter);
    ck_assert_status(self.status, MTASK_OK);
    ck_assert(mtask_future_canceled(self.awaited));
    mtask_event_set(&gate);
    ck_assert_status(mtask_pool_destroy(pool), MTASK_OK);
    mtask_future_release(self.awaited);
}

static void cut_by_cancel(mtask_pool *pool, mtask_future *awaited) {
    ck_assert_status(mtask_future_cancel(awaited), MTASK_OK);
    (void)pool;
}

static void cut_by_terminate(mtask_pool *pool, mtask_future *awaited) {
    ck_assert_status(mtask_pool_terminate(pool), MTASK_OK);
    (void)awaited;
}

START_TEST(a_waiter_hears_that_its_task_was_cancelled) {
    check_cut_off(cut_by_cancel);
    check_cut_off(cut_by_terminate);
}
END_TEST

/* A closed pool takes nothing new, but what it has may wait for each other. */
typedef struct late {
    mtask_event gate;
    mtask_future *awaited;
    mtask_status submitted;
} late;

static void *wait_in_a_closed_pool(void *arg) {
    late *self = (late *)arg;
    mtask_future *future;
    pass_gate(&self->gate);
    self->submitted = mtask_pool_submit(mtask_pool_current(), plus_one, NULL, &future);
    return wait_for_arg(self->awaited);
}

static void destroy_pool(testing_member *self) {
    self->status = mtask_pool_destroy((mtask_pool *)self->arg);
}

START_TEST(tasks_wait_for_each_other_while_the_pool_is_destroyed) {
    for (unsigned workers = 1; workers <= 2; workers++) {
        mtask_pool *pool = open_pool(workers, 0);
        late one;
        testing_crowd crowd;
        mtask_future *waiter;
        memset(&one, 0, sizeof one);
        waiter = submit(pool, wait_in_a_closed_pool, &one);
        one.awaited = submit(pool, plus_one, pack(4));
        testing_crowd_start(&crowd, 1, destroy_pool, pool);
        testing_await_asleep(&crowd.members[0]);
        mtask_event_set(&one.gate);
        testing_crowd_join(&crowd);
        ck_assert_status(crowd.members[0].status, MTASK_OK);
        ck_assert_status(one.submitted, MTASK_CLOSED);
        ck_assert_int_eq(unpack(take(waiter)), 5);
        ck_assert_int_eq(unpack(take(one.awaited)), 5);
    }
}
END_TEST

START_TEST(destroy_waits_for_tasks_that_wait_for_a_promise) {
    mtask_pool *pool = open_pool(1, 4);
    mtask_future *promise = make_promise();
    mtask_future *waiters[4];
    testing_crowd crowd;
    for (int i = 0; i < 4; i++)
        waiters[i] = submit(pool, wait_for_arg, promise);
    testing_crowd_start(&crowd, 1, destroy_pool, pool);
    testing_await_asleep(&crowd.members[0]);
    keep_promise(promise, 3);
    testing_crowd_join(&crowd);
    ck_assert_status(crowd.members[0].status, MTASK_OK);
    for (int i = 0; i < 4; i++)
        ck_assert_int_eq(unpack(take(waiters[i])), 3);
    mtask_future_release(promise);
}
END_TEST

int main(void) {
    const TTest *const tests[] = {tasks_wait_for_tasks_with_any_number_of_workers,
                                  a_recursion_by_submit_and_get_gives_the_right_number,
                                  a_recursion_may_be_deeper_than_a_worker_nests,
                                  a_recursion_past_all_bounds_is_refused_and_comes_back,
                                  a_waiter_runs_what_nobody_has_started,
                                  a_failure_in_a_task_that_its_waiter_runs_is_that_tasks_own,
                                  a_task_that_its_waiter_runs_has_no_part_in_its_locks,
                                  a_wait_with_a_timeout_leaves_the_work_to_another_thread,
                                  a_wait_in_a_task_ends_when_its_time_is_up,
                                  what_is_waited_for_goes_on_after_the_timeout,
                                  tasks_wait_for_several_futures,
                                  tasks_wait_for_groups,
                                  tasks_iterate_over_what_ends,
                                  tasks_iterate_over_results,
                                  tasks_map,
                                  tasks_loop,
                                  a_map_may_stand_in_the_items_of_a_map,
                                  jobs_wait_for_tasks_and_tasks_spawn_jobs,
                                  a_waiter_that_blocks_with_a_lock_held_goes_on,
                                  waiters_with_different_locks_do_not_get_in_each_others_way,
                                  a_task_cannot_wait_for_itself,
                                  tasks_that_wait_in_a_circle_are_told,
                                  a_circle_is_found_through_tasks_that_their_waiters_run,
                                  a_circle_is_found_across_pools,
                                  a_circle_may_close_above_a_task_that_its_waiter_runs,
                                  many_tasks_may_wait_for_one,
                                  a_wait_for_any_that_may_end_otherwise_closes_no_circle,
                                  a_wait_with_a_timeout_closes_no_circle,
                                  tasks_of_two_pools_wait_for_each_others_tasks,
                                  a_task_cannot_wait_for_its_own_group,
                                  a_job_cannot_wait_for_its_own_task,
                                  a_stolen_job_cannot_wait_for_its_own_task,
                                  the_wait_that_would_leave_no_thread_is_refused,
                                  as_many_as_may_wait_all_get_their_value,
                                  the_bound_does_not_matter_to_who_runs_what_it_waits_for,
                                  nobody_stands_in_until_there_is_work,
                                  who_stood_in_ends_when_not_needed,
                                  who_stands_in_is_initialised_like_the_others,
                                  a_task_that_waits_uses_no_cpu,
                                  a_task_waits_for_what_another_thread_promised,
                                  a_task_waits_for_what_a_later_task_keeps,
                                  a_task_waits_for_a_thread,
                                  a_waiter_hears_that_its_task_was_cancelled,
                                  tasks_wait_for_each_other_while_the_pool_is_destroyed,
                                  destroy_waits_for_tasks_that_wait_for_a_promise};
    Suite *suite = testing_suite("pool_wait", tests, sizeof tests / sizeof tests[0]);
    TCase *tcase = tcase_create("ways");
    tcase_set_timeout(tcase, TEST_TIMEOUT);
    tcase_add_loop_test(tcase, a_waiter_that_holds_a_lock_runs_nobody_else_who_needs_it, 0,
                        MORE_WAYS);
    suite_add_tcase(suite, tcase);
    return testing_main(suite);
}
