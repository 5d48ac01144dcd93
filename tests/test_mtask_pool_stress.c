/* test_mtask_pool_stress.c - crowds that submit, wait, cancel, close and terminate, at random

   An arena is one run: up to three pools, threads that do random things with them, and tasks that do
   the same. What a task returns is known beforehand, however it comes about: whoever could not have
   it done by the pool (it is closed, full, or the wait was refused) does it himself. Each task has a
   record that says whether it was accepted, ran, was cancelled; and in the end the pools' own counts
   must agree. Counters are relaxed and what the threads share is little: the test orders nothing for
   the pool. */
#include "testing_threads.h"
#include "../mtask_pool.h"

#define ADD(counter, n)    __atomic_fetch_add((counter), (n), __ATOMIC_RELAXED)
#define READ(variable)     __atomic_load_n((variable), __ATOMIC_ACQUIRE)
#define WRITE(variable, v) __atomic_store_n((variable), (v), __ATOMIC_RELEASE)

static void *pack(uint32_t number) {
    return (void *)(uintptr_t)number;
}

static uint32_t unpack(const void *value) {
    return (uint32_t)(uintptr_t)value;
}

/* Whether a test that began at `start` should go on. */
static bool has_time(int64_t start) {
    return mtask_now() - start < MTASK_MS(400);
}

/* A number that is made from another one. */
static uint32_t hash(uint32_t x) {
    x = (x ^ x >> 16) * UINT32_C(0x7feb352d);
    x = (x ^ x >> 15) * UINT32_C(0x846ca68b);
    return x ^ x >> 16;
}

#define VALUE_MASK UINT32_C(0xffffff)

/* ---- trees of jobs, which also serve as what tasks compute ---- */

#define TREE_FAILURE 7 /* what a node that fails counts */

static unsigned tree_children(uint32_t seed, unsigned depth) {
    return depth == 0 ? 0 : hash(seed ^ 1) % 5;
}

static bool tree_fails(uint32_t seed) {
    return hash(seed ^ 2) % 40 == 0;
}

static uint32_t tree_child(uint32_t seed, unsigned i) {
    return hash(seed + 77 * (i + 1));
}

static uint32_t tree_serial(uint32_t seed, unsigned depth) {
    uint32_t sum = hash(seed);
    for (unsigned i = 0; i < tree_children(seed, depth); i++) {
        uint32_t child = tree_child(seed, i);
        sum += tree_fails(child) ? TREE_FAILURE : tree_serial(child, depth - 1) ^ i;
    }
    return sum & VALUE_MASK;
}

typedef struct tree_node {
    uint32_t seed;
    unsigned depth;
} tree_node;

static uint32_t tree_by_jobs(uint32_t seed, unsigned depth);

static void *tree_job(void *arg) {
    const tree_node *node = (const tree_node *)arg;
    if (tree_fails(node->seed))
        return mtask_fail(MTASK_NOT_FOUND, "node %u", (unsigned)node->seed);
    return pack(tree_by_jobs(node->seed, node->depth));
}

/* Spawns the children, all or one after the other, and does now and then one of them itself. */
static uint32_t tree_by_jobs(uint32_t seed, unsigned depth) {
    mtask_job jobs[4];
    tree_node nodes[4];
    uint32_t sum = hash(seed);
    unsigned count = tree_children(seed, depth);
    for (unsigned i = 0; i < count; i++) {
        nodes[i].seed = tree_child(seed, i);
        nodes[i].depth = depth - 1;
        ck_assert_status(mtask_job_spawn(&jobs[i], tree_job, &nodes[i]), MTASK_OK);
    }
    for (unsigned i = count; i-- > 0;) {
        void *value = NULL;
        mtask_status status = mtask_job_sync(&jobs[i], &value);
        if (tree_fails(nodes[i].seed)) {
            ck_assert_status(status, MTASK_FAILED);
            ck_assert_status(mtask_failure(NULL), MTASK_NOT_FOUND);
            sum += TREE_FAILURE;
        } else {
            ck_assert_status(status, MTASK_OK);
            sum += unpack(value) ^ i;
        }
    }
    return sum & VALUE_MASK;
}

/* ---- tasks, and what is known of them ---- */

typedef enum task_kind {
    LEAF,
    FAIL,
    BOX,  /* its value is a block of memory */
    TREE, /* jobs */
    NEST, /* tasks */
    CREW, /* tasks of a group */
    MAP,
    LOOP,
    KINDS
} task_kind;

#define POOLS   3
#define RECORDS 20000

/* Bits of a plan, beside 1 << kind. */
enum {
    CLOSES = 1 << 10,     /* somebody closes a pool in the middle */
    TERMINATES = 1 << 11, /* or terminates it */
    CANCELS = 1 << 12,
    BOUNDED = 1 << 13, /* backlogs are small */
    CRAMPED = 1 << 14  /* few threads may stand in, few jobs have room */
};

typedef struct arena_plan {
    unsigned bits;
    int pools;
    int threads;
    int steps; /* of each thread */
} arena_plan;

/* A task that was, perhaps, submitted. */
typedef struct record {
    uint32_t seed;
    task_kind kind;
    unsigned depth; /* of tasks below it */
    int pool;
    bool accepted;
    bool sealed; /* it can run no more: who waited for its group was told so */
    uint32_t runs;
    uint32_t told; /* callbacks that ran */
    bool tells;    /* it has callbacks */
} record;

/* A group with its members. */
typedef struct crew {
    mtask_group group;
    record *members[12];
    unsigned count;
    struct crew *next; /* of those that are left over */
} crew;

static struct {
    arena_plan plan;
    uint64_t seed;
    mtask_pool *pools[POOLS];
    record records[RECORDS];
    uint32_t used;
    bool closing;    /* all pools are being closed, while some tasks still run */
    crew *left_over; /* crews whose end their task could not wait for */
    long boxes;      /* blocks of memory that nobody has freed */
} arena;

static task_kind child_kind(uint32_t seed, unsigned depth) {
    task_kind chosen = (task_kind)(hash(seed ^ 3) % KINDS);
    if ((arena.plan.bits >> chosen & 1) == 0 || depth == 0)
        chosen = hash(seed ^ 4) % 8 == 0 ? FAIL : LEAF;
    return chosen;
}

static unsigned child_count(uint32_t seed) {
    return 1 + hash(seed ^ 5) % 4;
}

static uint32_t child_seed(uint32_t seed, unsigned i) {
    return hash(seed + 1000 + i);
}

static size_t item_count(uint32_t seed) {
    return hash(seed ^ 6) % 30;
}

/* What a task of this kind returns; FAIL counts as TREE_FAILURE. */
static uint32_t value_of(task_kind kind, uint32_t seed, unsigned depth) {
    uint32_t sum = 0;
    switch (kind) {
    case FAIL:
        return TREE_FAILURE;
    case TREE:
        return tree_serial(seed, 4);
    case NEST:
    case CREW:
        for (unsigned i = 0; i < child_count(seed); i++) {
            uint32_t child = child_seed(seed, i);
            sum += value_of(child_kind(child, depth - 1), child, depth - 1);
        }
        return sum & VALUE_MASK;
    case MAP:
    case LOOP:
        for (uint32_t i = 0; i < item_count(seed); i++)
            sum += hash(seed + i) & 0xff;
        return sum;
    default:
        return hash(seed) & VALUE_MASK;
    }
}

static uint32_t value_of_record(const record *one) {
    return value_of(one->kind, one->seed, one->depth);
}

/* A record for one more task; NULL: enough. */
static record *make_record(task_kind kind, uint32_t seed, unsigned depth, int pool) {
    uint32_t at = ADD(&arena.used, 1);
    record *one;
    if (at >= RECORDS)
        return NULL;
    one = &arena.records[at];
    one->kind = kind;
    one->seed = seed;
    one->depth = depth;
    one->pool = pool;
    return one;
}

/* ---- boxes ---- */

static void *make_box(uint32_t value) {
    uint32_t *box = (uint32_t *)malloc(sizeof *box);
    testing_check(box != NULL);
    *box = value;
    (void)ADD(&arena.boxes, 1);
    return box;
}

static void free_box(void *value) {
    (void)ADD(&arena.boxes, -1);
    free(value);
}

/* ---- how tasks are submitted and waited for, by threads and by tasks ---- */

static void *run_record(void *arg);

static void tell_success(void *value, void *ctx) {
    record *one = (record *)ctx;
    (void)ADD(&one->told, 1);
    testing_check(READ(&one->runs) == 1 && one->kind != FAIL);
    if (one->kind != BOX)
        testing_check(unpack(value) == value_of_record(one));
}

static void tell_failure(const mtask_outcome *outcome, void *ctx) {
    record *one = (record *)ctx;
    (void)ADD(&one->told, 1);
    if (outcome->status == MTASK_CANCELED)
        testing_check(READ(&one->runs) == 0);
    else
        testing_check(READ(&one->runs) == 1 && one->kind == FAIL);
}

/* Whether a pool may be closed, or was terminated. */
static bool may_be_shut(void) {
    return (arena.plan.bits & (CLOSES | TERMINATES)) != 0 || READ(&arena.closing);
}

/* What a submit may answer beside MTASK_OK. */
static void check_refusal(mtask_status status, bool in_group) {
    unsigned bits = arena.plan.bits;
    if (status == MTASK_CLOSED)
        testing_check(may_be_shut());
    else if (status == MTASK_CANCELED)
        testing_check(in_group);
    else
        testing_check((status == MTASK_FULL || status == MTASK_DEADLOCK) && (bits & BOUNDED) != 0);
}

static mtask_status submit_plainly(record *one, mtask_group *group, mtask_future **future) {
    mtask_pool *pool = arena.pools[one->pool];
    if (group != NULL)
        return future != NULL ? mtask_group_submit(group, run_record, one, future)
                              : mtask_group_post(group, run_record, one);
    return future != NULL ? mtask_pool_submit(pool, run_record, one, future)
                          : mtask_pool_post(pool, run_record, one);
}

static mtask_status submit_in_full(record *one, mtask_group *group, mtask_future **future,
                                   int64_t timeout) {
    mtask_task_desc desc = {.fn = run_record, .arg = one, .group = group};
    if (one->kind == BOX)
        desc.free_value = free_box;
    one->tells = true;
    desc.on_success = tell_success;
    desc.on_failure = tell_failure;
    desc.ctx = one;
    return mtask_pool_submit_ex(arena.pools[one->pool], &desc, future, timeout);
}

/* Submits it in one of the ways that there are. Of a full backlog of another pool a task does not
   wait for long: that pool's tasks may do the same. */
static bool submit_record(record *one, mtask_group *group, mtask_future **future,
                          testing_random *random) {
    mtask_pool *current = mtask_pool_current();
    bool other = current != NULL && current != arena.pools[one->pool];
    mtask_status status;
    bool wanted = testing_below(random, 4) != 0;
    if (future != NULL)
        *future = NULL;
    if (one->kind == BOX || testing_below(random, 2) == 0 || (other && group == NULL)) {
        int64_t timeout = other || testing_below(random, 2) == 0 ? MTASK_US(100) : MTASK_FOREVER;
        status = submit_in_full(one, group, wanted ? future : NULL, timeout);
    } else {
        status = submit_plainly(one, group, wanted ? future : NULL);
    }
    if (status != MTASK_OK)
        check_refusal(status, group != NULL);
    if (status != MTASK_OK && future != NULL)
        testing_check(*future == NULL);
    one->accepted = status == MTASK_OK;
    return one->accepted;
}

/* Whether an outcome is what it should be; frees the box. */
static void check_outcome(const record *one, mtask_status status, const mtask_outcome *outcome) {
    uint32_t value = value_of_record(one);
    if (status == MTASK_CANCELED) {
        testing_check((arena.plan.bits & (CANCELS | TERMINATES)) != 0);
        testing_check(READ(&one->runs) == 0);
        return;
    }
    testing_check(READ(&one->runs) == 1);
    if (one->kind == FAIL) {
        char text[32];
        snprintf(text, sizeof text, "seed %u", (unsigned)one->seed);
        testing_check(status == MTASK_FAILED && outcome->status == MTASK_NOT_FOUND);
        testing_check(strcmp(outcome->text, text) == 0);
        return;
    }
    testing_check(status == MTASK_OK);
    testing_check((one->kind == BOX ? *(uint32_t *)outcome->value : unpack(outcome->value)) ==
                  value);
    if (one->kind == BOX)
        free_box(outcome->value);
}

/* Waits for a task, in one of the ways that there are; gives its future back. False: it was not
   to be had. */
static bool await_record(record *one, mtask_future *future, testing_random *random) {
    mtask_outcome outcome;
    mtask_status status = MTASK_OK;
    uint64_t way = testing_below(random, 8);
    if (way == 0 && (arena.plan.bits & CANCELS) != 0)
        (void)mtask_future_cancel(future);
    if (way == 1)
        status = mtask_future_wait(future, MTASK_US((int64_t)testing_below(random, 200)));
    if (way == 2)
        status = mtask_futures_wait(&future, 1, MTASK_WAIT_ANY, MTASK_FOREVER);
    if (way == 3)
        status = mtask_futures_wait(&future, 1, MTASK_WAIT_ALL, MTASK_FOREVER);
    testing_check(status == MTASK_OK || status == MTASK_TIMEOUT || status == MTASK_DEADLOCK);
    if (way == 4) {
        mtask_future_release(future);
        return false;
    }
    status = mtask_future_get(future, &outcome, MTASK_FOREVER);
    if (status == MTASK_DEADLOCK)
        testing_check(mtask_pool_current() != NULL);
    else
        check_outcome(one, status, &outcome);
    mtask_future_release(future);
    return status == MTASK_OK || status == MTASK_FAILED;
}

/* ---- what tasks do ---- */

static void add_items(size_t begin, size_t end, void *into, void *ctx) {
    for (size_t i = begin; i < end; i++)
        *(uint32_t *)into += hash(*(const uint32_t *)ctx + (uint32_t)i) & 0xff;
}

static void add_sums(void *into, const void *later, void *ctx) {
    *(uint32_t *)into += *(const uint32_t *)later;
    (void)ctx;
}

static void map_item(const void *in, void *out, void *ctx) {
    *(uint32_t *)out = hash(*(const uint32_t *)ctx + *(const uint32_t *)in) & 0xff;
}

/* What a loop or a map may answer beside MTASK_OK, if it was not done. */
static void check_not_done(mtask_status status) {
    unsigned bits = arena.plan.bits;
    if (status == MTASK_CLOSED || status == MTASK_CANCELED)
        testing_check(may_be_shut());
    else if (status == MTASK_DEADLOCK)
        testing_check(mtask_pool_current() != NULL);
    else
        testing_check(status == MTASK_FULL && (bits & BOUNDED) != 0);
}

static uint32_t do_loop(mtask_pool *pool, uint32_t seed) {
    const uint32_t zero = 0;
    uint32_t sum = 0;
    mtask_for_desc loop = {.end = item_count(seed), .fold = add_items, .combine = add_sums};
    mtask_status status;
    loop.identity = &zero;
    loop.size = sizeof sum;
    loop.ctx = &seed;
    loop.grain = 1 + hash(seed ^ 8) % 5;
    status = mtask_pool_reduce(pool, &loop, &sum, NULL);
    if (status == MTASK_OK)
        return sum;
    check_not_done(status);
    return value_of(LOOP, seed, 0);
}

static uint32_t do_map(mtask_pool *pool, uint32_t seed) {
    uint32_t in[30], out[30], sum = 0;
    mtask_map_desc map = {.fn = map_item, .ctx = &seed, .count = item_count(seed)};
    mtask_status status;
    for (uint32_t i = 0; i < map.count; i++)
        in[i] = i;
    map.in = in;
    map.out = out;
    map.in_size = map.out_size = sizeof in[0];
    map.chunk = hash(seed ^ 8) % 5;
    status = mtask_pool_map(pool, &map, NULL);
    if (status != MTASK_OK) {
        check_not_done(status);
        return value_of(MAP, seed, 0);
    }
    for (size_t i = 0; i < map.count; i++)
        sum += out[i];
    return sum;
}

static int some_pool(testing_random *random) {
    return (int)testing_below(random, (uint64_t)arena.plan.pools);
}

/* Has the children done by tasks, here and in other pools. */
static uint32_t do_nest(const record *parent, testing_random *random) {
    record *records[4];
    mtask_future *futures[4];
    unsigned count = child_count(parent->seed);
    uint32_t sum = 0;
    for (unsigned i = 0; i < count; i++) {
        uint32_t seed = child_seed(parent->seed, i);
        task_kind kind = child_kind(seed, parent->depth - 1);
        int pool = testing_below(random, 4) == 0 ? some_pool(random) : parent->pool;
        records[i] = make_record(kind, seed, parent->depth - 1, pool);
        futures[i] = NULL;
        if (records[i] != NULL)
            (void)submit_record(records[i], NULL, &futures[i], random);
    }
    for (unsigned i = 0; i < count; i++) {
        unsigned at = testing_below(random, 2) == 0 ? i : count - 1 - i;
        uint32_t seed = child_seed(parent->seed, i);
        if (futures[at] != NULL)
            (void)await_record(records[at], futures[at], random);
        futures[at] = NULL;
        sum += value_of(child_kind(seed, parent->depth - 1), seed, parent->depth - 1);
    }
    for (unsigned i = 0; i < count; i++)
        mtask_future_release(futures[i]);
    return sum & VALUE_MASK;
}

/* The members of a group that has ended: those that did not run will not. */
static void crew_check_end(const crew *self, mtask_status status, const mtask_outcome *first) {
    unsigned failed = 0, absent = 0;
    for (unsigned i = 0; i < self->count; i++) {
        record *one = self->members[i];
        if (one == NULL || !one->accepted)
            continue;
        WRITE(&one->sealed, true);
        testing_check(READ(&one->runs) <= 1);
        absent += READ(&one->runs) == 0;
        failed += READ(&one->runs) == 1 && one->kind == FAIL;
    }
    if (status == MTASK_FAILED)
        testing_check(failed > 0 && first->status == MTASK_NOT_FOUND);
    else
        testing_check(failed == 0 && status == (absent > 0 ? MTASK_CANCELED : MTASK_OK));
}

/* Waits for a group and frees it at once. False: the wait was refused. */
static bool crew_end(crew *self) {
    mtask_outcome first;
    mtask_status status = mtask_group_wait(&self->group, &first, MTASK_FOREVER);
    if (status == MTASK_DEADLOCK)
        return false;
    memset(&self->group, 0xee, sizeof self->group);
    crew_check_end(self, status, &first);
    free(self);
    return true;
}

/* Whose end cannot be waited for is left to those who close the arena: what a task would wait for
   here may need this thread. */
static void crew_leave(crew *self) {
    testing_check(mtask_pool_current() != NULL);
    self->next = READ(&arena.left_over);
    while (!__atomic_compare_exchange_n(&arena.left_over, &self->next, self, false,
                                        __ATOMIC_RELEASE, __ATOMIC_RELAXED)) {
    }
}

static void do_crew(int pool, uint32_t parent, unsigned depth, testing_random *random) {
    crew *self = (crew *)calloc(1, sizeof *self);
    bool cancels = (arena.plan.bits & CANCELS) != 0 && testing_below(random, 4) == 0;
    int flags = testing_below(random, 3) == 0 ? MTASK_FAIL_FAST : 0;
    testing_check(self != NULL);
    self->count = (unsigned)testing_below(random, 12);
    ck_assert_status(mtask_group_init(&self->group, arena.pools[pool], flags), MTASK_OK);
    for (unsigned i = 0; i < self->count; i++) {
        uint32_t seed = child_seed(parent, i);
        mtask_future *future = NULL;
        self->members[i] = make_record(child_kind(seed, depth), seed, depth, pool);
        if (self->members[i] != NULL)
            (void)submit_record(self->members[i], &self->group, &future, random);
        mtask_future_release(future);
        if (cancels && testing_below(random, self->count) == 0)
            ck_assert_status(mtask_group_cancel(&self->group), MTASK_OK);
    }
    if (!crew_end(self))
        crew_leave(self);
}

static void *run_record(void *arg) {
    record *self = (record *)arg;
    testing_random random = testing_random_make(arena.seed, (unsigned)(self - arena.records) + 99);
    uint32_t value = value_of_record(self);
    testing_check(ADD(&self->runs, 1) == 0 && !READ(&self->sealed));
    testing_check(mtask_pool_current() == arena.pools[self->pool]);
    switch (self->kind) {
    case FAIL:
        return mtask_fail(MTASK_NOT_FOUND, "seed %u", (unsigned)self->seed);
    case BOX:
        return make_box(value);
    case TREE:
        testing_check(tree_by_jobs(self->seed, 4) == value);
        break;
    case NEST:
        testing_check(do_nest(self, &random) == value);
        break;
    case CREW:
        do_crew(self->pool, self->seed, self->depth - 1, &random);
        break;
    case MAP:
        testing_check(do_map(arena.pools[self->pool], self->seed) == value);
        break;
    case LOOP:
        testing_check(do_loop(arena.pools[self->pool], self->seed) == value);
        break;
    default:
        testing_dawdle(&random, 100);
    }
    return pack(value);
}

/* ---- what threads do ---- */

#define POCKET 12

/* The futures that a thread has not given back yet. */
typedef struct pocket {
    record *records[POCKET];
    mtask_future *futures[POCKET];
    size_t count;
} pocket;

static void pocket_drop(pocket *self, size_t at) {
    self->count--;
    self->records[at] = self->records[self->count];
    self->futures[at] = self->futures[self->count];
}

static void pocket_await(pocket *self, testing_random *random) {
    size_t at;
    if (self->count == 0)
        return;
    at = (size_t)testing_below(random, self->count);
    (void)await_record(self->records[at], self->futures[at], random);
    pocket_drop(self, at);
}

static void pocket_submit(pocket *self, testing_random *random) {
    task_kind kind = (task_kind)testing_below(random, KINDS);
    uint32_t seed = (uint32_t)testing_next(random);
    mtask_future *future = NULL;
    record *one;
    if ((arena.plan.bits >> kind & 1) == 0)
        kind = LEAF;
    one = make_record(kind, seed, 3, some_pool(random));
    if (self->count == POCKET)
        pocket_await(self, random);
    if (one == NULL || !submit_record(one, NULL, &future, random) || future == NULL)
        return;
    self->records[self->count] = one;
    self->futures[self->count++] = future;
}

static void pocket_wait(const pocket *self, testing_random *random) {
    mtask_wait_mode mode = (mtask_wait_mode)testing_below(random, 3);
    int64_t timeout = testing_below(random, 2) == 0 ? MTASK_FOREVER : MTASK_US(50);
    mtask_status status = mtask_futures_wait(self->futures, self->count, mode, timeout);
    size_t ended = 0;
    if (status == MTASK_TIMEOUT && timeout != MTASK_FOREVER)
        return;
    ck_assert_status(status, MTASK_OK);
    for (size_t i = 0; i < self->count; i++)
        ended += mtask_future_done(self->futures[i]);
    testing_check(ended == self->count || (mode != MTASK_WAIT_ALL && ended > 0));
}

static void pocket_iterate(const pocket *self, testing_random *random) {
    mtask_completed *completed;
    mtask_future *future;
    bool seen[POCKET] = {false};
    size_t most = (size_t)testing_below(random, self->count + 1), at = 0;
    ck_assert_status(mtask_as_completed(self->futures, self->count, &completed), MTASK_OK);
    for (size_t i = 0; i < most; i++) {
        ck_assert_status(mtask_completed_next(completed, &future, &at, MTASK_FOREVER), MTASK_OK);
        testing_check(at < self->count && !seen[at] && future == self->futures[at]);
        testing_check(mtask_future_done(future));
        seen[at] = true;
    }
    if (most == self->count)
        ck_assert_status(mtask_completed_next(completed, &future, &at, MTASK_FOREVER), MTASK_DONE);
    mtask_completed_close(completed);
}

static long callbacks;

static void count_callback(mtask_future *future, void *ctx) {
    testing_check(mtask_future_done(future));
    (void)ADD((long *)ctx, 1);
}

static void pocket_then(const pocket *self, testing_random *random) {
    size_t at = (size_t)testing_below(random, self->count);
    ck_assert_status(mtask_future_then(self->futures[at], count_callback, &callbacks), MTASK_OK);
    (void)ADD(&callbacks, -1);
}

static void pocket_cancel(const pocket *self, testing_random *random) {
    size_t at = (size_t)testing_below(random, self->count);
    mtask_status status = mtask_future_cancel(self->futures[at]);
    testing_check(status == MTASK_OK || status == MTASK_INVALID);
    testing_check(mtask_future_canceled(self->futures[at]) == (status == MTASK_OK));
}

static mtask_status pull_item(void *in, void *ctx) {
    uint32_t *left = (uint32_t *)ctx;
    if (*left == 0)
        return MTASK_DONE;
    *(uint32_t *)in = --*left;
    return MTASK_OK;
}

static void square_item(const void *in, void *out, void *ctx) {
    uint32_t x = *(const uint32_t *)in;
    *(uint32_t *)out = x * x;
    if (x % 8 == 3)
        (void)mtask_fail(MTASK_NOT_FOUND, NULL);
    (void)ctx;
}

static void iterate(testing_random *random) {
    uint32_t count = (uint32_t)testing_below(random, 60), left = count;
    uint64_t most = testing_below(random, 2) == 0 ? count : testing_below(random, count + 1);
    mtask_imap_desc desc = {.fn = square_item, .input = pull_item, .ctx = &left};
    mtask_imap *imap = NULL;
    mtask_item item;
    mtask_status status;
    desc.in_size = desc.out_size = sizeof(uint32_t);
    desc.chunk = (size_t)testing_below(random, 5);
    desc.ahead = (size_t)testing_below(random, 10);
    desc.unordered = testing_below(random, 2) == 0;
    status = mtask_pool_imap(arena.pools[some_pool(random)], &desc, &imap);
    if (status != MTASK_OK)
        check_refusal(status, false);
    for (uint64_t i = 0; i < most && status == MTASK_OK; i++) {
        status = mtask_imap_next(imap, &item, MTASK_FOREVER);
        if (status == MTASK_CANCELED || status == MTASK_DONE)
            break;
        testing_check(item.index < count && (desc.unordered || item.index == i));
        testing_check(*(const uint32_t *)item.in == count - 1 - (uint32_t)item.index);
        testing_check(*(uint32_t *)item.out ==
                      *(const uint32_t *)item.in * *(const uint32_t *)item.in);
        testing_check((item.status == MTASK_OK) == (*(const uint32_t *)item.in % 8 != 3));
        testing_check(status == (item.status == MTASK_OK ? MTASK_OK : MTASK_FAILED));
        status = MTASK_OK;
    }
    if (status == MTASK_CANCELED || status == MTASK_DONE) /* too early */
        testing_check((arena.plan.bits & (TERMINATES | CLOSES)) != 0);
    else if (status == MTASK_OK && most == count)
        status = mtask_imap_next(imap, &item, MTASK_FOREVER);
    if (most == count && (arena.plan.bits & (TERMINATES | CLOSES)) == 0)
        ck_assert_status(status, MTASK_DONE);
    mtask_imap_close(imap);
}

/* What needs a pool's own tasks, which are no records. */
static void do_something_large(testing_random *random) {
    mtask_pool *pool = arena.pools[some_pool(random)];
    uint32_t seed = (uint32_t)testing_next(random);
    switch (testing_below(random, 4)) {
    case 0:
        testing_check(do_map(pool, seed) == value_of(MAP, seed, 0));
        break;
    case 1:
        testing_check(do_loop(pool, seed) == value_of(LOOP, seed, 0));
        break;
    case 2:
        testing_check(tree_by_jobs(seed, 5) == tree_serial(seed, 5));
        break;
    default:
        iterate(random);
    }
}

static void look_at_stats(testing_random *random) {
    mtask_pool_stats stats;
    mtask_worker_stats workers[2];
    mtask_pool *pool = arena.pools[some_pool(random)];
    ck_assert_status(mtask_pool_get_stats(pool, &stats, workers, 2), MTASK_OK);
    testing_check(stats.done + stats.canceled <= stats.submitted);
    testing_check(stats.failed <= stats.done);
}

static void make_a_step(pocket *mine, testing_random *random) {
    uint64_t step = testing_below(random, 20);
    if (step < 9 || mine->count == 0)
        pocket_submit(mine, random);
    else if (step < 11)
        pocket_await(mine, random);
    else if (step == 11)
        pocket_wait(mine, random);
    else if (step == 12)
        pocket_iterate(mine, random);
    else if (step == 13)
        pocket_then(mine, random);
    else if (step == 14 && (arena.plan.bits & CANCELS) != 0)
        pocket_cancel(mine, random);
    else if (step == 15 && (arena.plan.bits >> CREW & 1) != 0)
        do_crew(some_pool(random), (uint32_t)testing_next(random), 2, random);
    else if (step == 16 && (arena.plan.bits >> MAP & 1) != 0)
        do_something_large(random);
    else if (step == 17)
        look_at_stats(random);
    else
        testing_dawdle(random, 1000);
}

static void take_part(testing_member *self) {
    testing_random random = testing_random_make(arena.seed, (unsigned)self->index);
    pocket mine = {.count = 0};
    for (int step = 0; step < arena.plan.steps; step++)
        make_a_step(&mine, &random);
    while (mine.count > 0)
        pocket_await(&mine, &random);
}

/* Closes or terminates a pool, at some time. */
static void make_trouble(testing_member *self) {
    testing_random random = testing_random_make(arena.seed, 50);
    int pool = some_pool(&random);
    bool closes = (arena.plan.bits & CLOSES) != 0 &&
                  ((arena.plan.bits & TERMINATES) == 0 || testing_below(&random, 2) == 0);
    testing_dawdle(&random, 20000);
    ck_assert_status(mtask_sleep(MTASK_US((int64_t)testing_below(&random, 2000))), MTASK_OK);
    ck_assert_status(closes ? mtask_pool_close(arena.pools[pool])
                            : mtask_pool_terminate(arena.pools[pool]),
                     MTASK_OK);
    (void)self;
}

/* ---- a run of the arena ---- */

static void open_arena(const arena_plan *plan, uint64_t seed, testing_random *random) {
    memset(&arena, 0, sizeof arena);
    arena.plan = *plan;
    arena.seed = seed;
    for (int i = 0; i < plan->pools; i++) {
        mtask_pool_desc desc = {.workers = 1 + (unsigned)testing_below(random, 4)};
        if ((plan->bits & CRAMPED) != 0) {
            desc.spare = 1 + (unsigned)testing_below(random, 4);
            desc.jobs = 1 + (size_t)testing_below(random, 4);
        }
        if ((plan->bits & BOUNDED) != 0) {
            desc.backlog = 1 + (size_t)testing_below(random, 8);
            desc.reject = testing_below(random, 4) == 0;
        }
        ck_assert_status(mtask_pool_create(&arena.pools[i], &desc), MTASK_OK);
    }
}

/* What the records say of one pool must be what it says itself. */
static void check_pool(int pool) {
    mtask_pool_stats stats;
    uint64_t accepted = 0, ran = 0, failed = 0;
    uint32_t used = READ(&arena.used) < RECORDS ? READ(&arena.used) : RECORDS;
    bool alone = (arena.plan.bits & (1 << MAP | 1 << LOOP)) == 0; /* no tasks but ours */
    for (uint32_t i = 0; i < used; i++) {
        const record *one = &arena.records[i];
        if (one->pool != pool)
            continue;
        testing_check(one->runs <= one->accepted);
        testing_check(one->told == (one->tells && one->accepted));
        accepted += one->accepted;
        ran += one->runs;
        failed += one->runs != 0 && one->kind == FAIL;
    }
    ck_assert_status(mtask_pool_get_stats(arena.pools[pool], &stats, NULL, 0), MTASK_OK);
    ck_assert_uint_eq(stats.submitted, stats.done + stats.canceled);
    ck_assert_uint_eq(stats.pending + stats.running + stats.waiting + stats.threads, 0);
    ck_assert_uint_ge(stats.submitted, accepted);
    ck_assert_uint_ge(stats.done, ran);
    if (alone) {
        ck_assert_uint_eq(stats.submitted, accepted);
        ck_assert_uint_eq(stats.done, ran);
        ck_assert_uint_eq(stats.failed, failed);
    }
    if ((arena.plan.bits & (TERMINATES | CANCELS | 1 << CREW)) == 0)
        ck_assert_uint_eq(ran, accepted);
}

/* Waits for the groups that were left over, as long as the pools are there. */
static void end_left_over(void) {
    for (crew *next, *one = __atomic_exchange_n(&arena.left_over, NULL, __ATOMIC_ACQUIRE);
         one != NULL; one = next) {
        next = one->next;
        testing_check(crew_end(one));
    }
}

static void close_arena(testing_random *random) {
    WRITE(&arena.closing, true);
    for (int i = 0; i < arena.plan.pools; i++)
        ck_assert_status(mtask_pool_close(arena.pools[i]), MTASK_OK);
    if (arena.plan.pools == 1 && (arena.plan.bits & 1 << CREW) == 0 &&
        testing_below(random, 3) == 0) {
        ck_assert_status(mtask_pool_destroy(arena.pools[0]), MTASK_OK);
        return; /* while its last tasks run; nobody is left to ask it */
    }
    for (int i = 0; i < arena.plan.pools; i++)
        ck_assert_status(mtask_pool_join(arena.pools[i], MTASK_FOREVER), MTASK_OK);
    end_left_over();
    for (int i = 0; i < arena.plan.pools; i++) {
        check_pool(i);
        ck_assert_status(mtask_pool_destroy(arena.pools[i]), MTASK_OK);
    }
}

static void run_arena(const arena_plan *plan, uint64_t seed) {
    testing_random random = testing_random_make(seed, 60);
    testing_crowd crowd;
    open_arena(plan, seed, &random);
    testing_crowd_start(&crowd, plan->threads, take_part, NULL);
    if ((plan->bits & (CLOSES | TERMINATES)) != 0)
        (void)testing_crowd_add(&crowd, make_trouble, NULL);
    testing_crowd_join(&crowd);
    close_arena(&random);
    ck_assert_int_eq(READ(&arena.boxes), 0);
}

/* Runs a plan again and again, for about a second. */
static void run_plan(unsigned bits, int pools, int steps) {
    uint64_t seed = testing_seed();
    testing_random random = testing_random_make(seed, 70);
    long rounds = testing_scale(400);
    int64_t start = mtask_now();
    for (long round = 0; round < rounds && (round < 2 || has_time(start)); round++) {
        arena_plan plan = {bits, 1, 1, steps};
        plan.pools += (int)testing_below(&random, (uint64_t)pools);
        plan.threads += (int)testing_below(&random, 5);
        run_arena(&plan, seed + (uint64_t)round * 1000);
    }
    ck_assert_int_eq(READ(&callbacks), 0); /* each was called once */
}

#define SIMPLE (1u << LEAF | 1u << FAIL | 1u << BOX)
#define NESTED (SIMPLE | 1u << NEST | 1u << TREE)
#define ALL    (NESTED | 1u << CREW | 1u << MAP | 1u << LOOP)

START_TEST(tasks_run_once) {
    run_plan(SIMPLE, 1, 200);
}
END_TEST

START_TEST(tasks_run_once_or_are_cancelled) {
    run_plan(SIMPLE | CANCELS, 3, 200);
}
END_TEST

START_TEST(bounded_backlogs_lose_nothing) {
    run_plan(SIMPLE | CANCELS | BOUNDED, 2, 100);
}
END_TEST

START_TEST(nested_tasks_in_several_pools_give_the_right_values) {
    run_plan(NESTED, 3, 40);
}
END_TEST

START_TEST(nested_tasks_come_to_an_end_with_few_threads) {
    run_plan(NESTED | CRAMPED | BOUNDED | CANCELS, 3, 40);
}
END_TEST

START_TEST(groups_are_freed_as_soon_as_they_end) {
    run_plan(SIMPLE | 1u << CREW | CANCELS, 1, 60);
}
END_TEST

START_TEST(close_at_any_moment_loses_nothing) {
    run_plan(NESTED | 1u << CREW | CLOSES, 3, 60);
}
END_TEST

START_TEST(terminate_at_any_moment_cancels_what_did_not_run) {
    run_plan(NESTED | 1u << CREW | TERMINATES | CANCELS, 3, 60);
}
END_TEST

START_TEST(maps_and_loops_mix_with_tasks) {
    run_plan(ALL, 2, 40);
}
END_TEST

START_TEST(everything_at_once) {
    run_plan(ALL | CANCELS | CLOSES | TERMINATES | BOUNDED | CRAMPED, 3, 60);
}
END_TEST

/* ---- jobs alone ---- */

static void *tree_task(void *arg) {
    uint32_t seed = unpack(arg);
    return pack(tree_by_jobs(seed, 7));
}

typedef struct forest {
    uint64_t seed;
    int64_t start;
    long rounds;
} forest;

/* Grows trees: in a pool of its own, in the default pool, or from outside. */
static void grow_trees(testing_member *self) {
    const forest *plan = (const forest *)self->arg;
    testing_random random = testing_random_make(plan->seed, (unsigned)self->index);
    mtask_pool_desc desc = {.workers = 1 + (unsigned)self->index};
    mtask_pool *pool = NULL;
    desc.jobs = self->index == 1 ? 2 : 0;
    ck_assert_status(mtask_pool_create(&pool, &desc), MTASK_OK);
    for (long i = 0; i < plan->rounds && (i < 3 || has_time(plan->start)); i++) {
        mtask_future *futures[4];
        uint32_t seeds[4];
        for (int j = 0; j < 4; j++) {
            seeds[j] = (uint32_t)testing_next(&random) & VALUE_MASK;
            ck_assert_status(
                mtask_pool_submit(j == 3 ? NULL : pool, tree_task, pack(seeds[j]), &futures[j]),
                MTASK_OK);
        }
        if (i % 4 == 0)
            testing_check(tree_by_jobs(seeds[0], 6) == tree_serial(seeds[0], 6));
        for (int j = 0; j < 4; j++) {
            mtask_outcome outcome;
            ck_assert_status(mtask_future_get(futures[j], &outcome, MTASK_FOREVER), MTASK_OK);
            testing_check(unpack(outcome.value) == tree_serial(seeds[j], 7));
            mtask_future_release(futures[j]);
        }
    }
    ck_assert_status(mtask_pool_destroy(pool), MTASK_OK);
}

START_TEST(random_trees_of_jobs_give_what_a_serial_run_gives) {
    forest trees = {.seed = testing_seed(), .start = mtask_now(), .rounds = testing_scale(2000)};
    testing_crowd crowd;
    testing_crowd_start(&crowd, 4, grow_trees, &trees);
    testing_crowd_join(&crowd);
}
END_TEST

/* ---- nobody sleeps through what he should do ---- */

static void *return_arg(void *arg) {
    return arg;
}

/* One task at a time, at moments at which workers are about to go to sleep. */
START_TEST(no_submit_goes_unseen) {
    testing_random random = testing_random_make(testing_seed(), 0);
    long rounds = testing_scale(20000);
    for (unsigned workers = 1; workers <= 3; workers++) {
        mtask_pool_desc desc = {.workers = workers};
        mtask_pool *pool;
        int64_t start = mtask_now();
        ck_assert_status(mtask_pool_create(&pool, &desc), MTASK_OK);
        for (long i = 0; i < rounds && mtask_now() - start < MTASK_MS(300); i++) {
            mtask_future *future = NULL;
            ck_assert_status(mtask_pool_submit(pool, return_arg, &random, &future), MTASK_OK);
            testing_dawdle(&random, 3000);
            ck_assert_status(mtask_future_wait(future, MTASK_FOREVER), MTASK_OK);
            mtask_future_release(future);
            testing_dawdle(&random, 3000);
        }
        ck_assert_status(mtask_pool_destroy(pool), MTASK_OK);
    }
}
END_TEST

typedef struct spawner {
    testing_random random;
    mtask_event began;
    long rounds;
} spawner;

static void *begin(void *arg) {
    mtask_event_set((mtask_event *)arg);
    return arg;
}

/* Spawns a job and does not come back for it until another worker has begun it. */
static void *spawn_and_wait(void *arg) {
    spawner *self = (spawner *)arg;
    int64_t start = mtask_now();
    for (long i = 0; i < self->rounds && mtask_now() - start < MTASK_MS(300); i++) {
        mtask_job job;
        void *value = NULL;
        mtask_event_clear(&self->began);
        ck_assert_status(mtask_job_spawn(&job, begin, &self->began), MTASK_OK);
        ck_assert_status(mtask_event_wait(&self->began, MTASK_FOREVER), MTASK_OK);
        ck_assert_status(mtask_job_sync(&job, &value), MTASK_OK);
        testing_check(value == &self->began);
        testing_dawdle(&self->random, 3000);
    }
    return NULL;
}

/* Runs a spawner in a pool of its own. Returns how many of its jobs others have taken. */
static size_t run_spawner(unsigned workers, mtask_fn fn) {
    mtask_pool_desc desc = {.workers = workers};
    spawner self = {.random = testing_random_make(testing_seed(), workers)};
    mtask_pool *pool;
    mtask_future *future = NULL;
    mtask_pool_stats stats;
    self.rounds = testing_scale(20000);
    ck_assert_status(mtask_pool_create(&pool, &desc), MTASK_OK);
    ck_assert_status(mtask_pool_submit(pool, fn, &self, &future), MTASK_OK);
    ck_assert_status(mtask_future_get(future, NULL, MTASK_FOREVER), MTASK_OK);
    mtask_future_release(future);
    ck_assert_status(mtask_pool_get_stats(pool, &stats, NULL, 0), MTASK_OK);
    ck_assert_status(mtask_pool_destroy(pool), MTASK_OK);
    return stats.stolen;
}

START_TEST(no_spawn_goes_unseen) {
    for (unsigned workers = 2; workers <= 4; workers++)
        ck_assert_uint_gt(run_spawner(workers, spawn_and_wait), 0);
}
END_TEST

/* A job is spawned while the only other worker is busy, and nothing is spawned after it: who has
   become idle then must find it. */
static void *sleep_a_moment(void *arg) {
    testing_random *random = (testing_random *)arg;
    testing_dawdle(random, 5000);
    return NULL;
}

static void *spawn_beside_tasks(void *arg) {
    spawner *self = (spawner *)arg;
    testing_random others = self->random;
    int64_t start = mtask_now();
    for (long i = 0; i < self->rounds && mtask_now() - start < MTASK_MS(300); i++) {
        mtask_job jobs[2];
        mtask_future *future = NULL;
        mtask_event_clear(&self->began);
        ck_assert_status(mtask_pool_submit(mtask_pool_current(), sleep_a_moment, &others, &future),
                         MTASK_OK);
        testing_dawdle(&self->random, 5000);
        ck_assert_status(mtask_job_spawn(&jobs[0], begin, &self->began), MTASK_OK);
        ck_assert_status(mtask_job_spawn(&jobs[1], return_arg, NULL), MTASK_OK);
        ck_assert_status(mtask_event_wait(&self->began, MTASK_FOREVER), MTASK_OK);
        ck_assert_status(mtask_job_sync(&jobs[1], NULL), MTASK_OK);
        ck_assert_status(mtask_job_sync(&jobs[0], NULL), MTASK_OK);
        ck_assert_status(mtask_future_wait(future, MTASK_FOREVER), MTASK_OK);
        mtask_future_release(future);
    }
    return NULL;
}

START_TEST(who_becomes_idle_finds_jobs_that_were_spawned_before) {
    ck_assert_uint_gt(run_spawner(2, spawn_beside_tasks), 0);
}
END_TEST

/* A worker that looks for jobs finds a task instead, which keeps it until the next job has begun: a
   third one, which sleeps, has to hear of that job, though the second one looked when it was told of
   jobs last. */
static void *keep_a_worker(void *arg) {
    ck_assert_status(mtask_event_wait((mtask_event *)arg, MTASK_FOREVER), MTASK_OK);
    return arg;
}

static void *spawn_behind_a_task(void *arg) {
    spawner *self = (spawner *)arg;
    int64_t start = mtask_now();
    for (long i = 0; i < self->rounds && mtask_now() - start < MTASK_MS(300); i++) {
        mtask_job job;
        mtask_future *kept = NULL;
        mtask_event_clear(&self->began);
        ck_assert_status(mtask_job_spawn(&job, return_arg, NULL), MTASK_OK);
        ck_assert_status(mtask_job_sync(&job, NULL), MTASK_OK);
        ck_assert_status(
            mtask_pool_submit(mtask_pool_current(), keep_a_worker, &self->began, &kept), MTASK_OK);
        testing_dawdle(&self->random, 40000);
        ck_assert_status(mtask_job_spawn(&job, begin, &self->began), MTASK_OK);
        ck_assert_status(mtask_event_wait(&self->began, MTASK_FOREVER), MTASK_OK);
        ck_assert_status(mtask_job_sync(&job, NULL), MTASK_OK);
        ck_assert_status(mtask_future_wait(kept, MTASK_FOREVER), MTASK_OK);
        mtask_future_release(kept);
        testing_dawdle(&self->random, 40000);
    }
    return NULL;
}

START_TEST(a_sleeper_hears_of_jobs_when_the_searcher_has_found_a_task) {
    ck_assert_uint_gt(run_spawner(3, spawn_behind_a_task), 0);
}
END_TEST

/* The owner comes back for its job at the very moment at which another worker takes it. */
static void *count_up(void *arg) {
    (void)ADD((uint32_t *)arg, 1);
    return arg;
}

static void *spawn_and_come_back(void *arg) {
    spawner *self = (spawner *)arg;
    int64_t start = mtask_now();
    for (long i = 0; i < self->rounds && mtask_now() - start < MTASK_MS(300); i++) {
        mtask_job jobs[3];
        uint32_t counts[3] = {0, 0, 0};
        int count = 1 + (int)testing_below(&self->random, 3);
        for (int j = 0; j < count; j++)
            ck_assert_status(mtask_job_spawn(&jobs[j], count_up, &counts[j]), MTASK_OK);
        testing_dawdle(&self->random, i % 4 == 0 ? 300 : 20000);
        for (int j = count - 1; j >= 0; j--) {
            ck_assert_status(mtask_job_sync(&jobs[j], NULL), MTASK_OK);
            testing_check(READ(&counts[j]) == 1);
        }
        testing_dawdle(&self->random, i % 3 == 0 ? 6000 : 100);
        for (int j = 0; j < count; j++)
            testing_check(READ(&counts[j]) == 1);
    }
    return NULL;
}

START_TEST(a_job_is_done_once_whoever_comes_first) {
    for (unsigned workers = 2; workers <= 3; workers++)
        (void)run_spawner(workers, spawn_and_come_back);
}
END_TEST

/* ---- pools that come and go ---- */

typedef struct churn {
    uint64_t seed;
    int64_t start;
    long rounds;
} churn;

static long churned; /* tasks that ran */

static void *churn_task(void *arg) {
    (void)ADD(&churned, 1);
    return arg;
}

/* Futures outlive their pool: each has ended, one way or the other. */
static long check_survivors(mtask_future **futures, int count) {
    long ran = 0;
    for (int i = 0; i < count; i++) {
        mtask_status status = mtask_future_get(futures[i], NULL, MTASK_NOWAIT);
        testing_check(status == MTASK_OK || status == MTASK_CANCELED);
        ran += status == MTASK_OK;
        mtask_future_release(futures[i]);
    }
    return ran;
}

static void create_and_destroy(testing_member *self) {
    const churn *plan = (const churn *)self->arg;
    testing_random random = testing_random_make(plan->seed, (unsigned)self->index);
    for (long i = 0; i < plan->rounds && (i < 3 || has_time(plan->start)); i++) {
        mtask_pool_desc desc = {.workers = 1 + (unsigned)testing_below(&random, 3)};
        mtask_future *futures[20];
        mtask_pool *pool;
        int count = (int)testing_below(&random, 20);
        ck_assert_status(mtask_pool_create(&pool, &desc), MTASK_OK);
        for (int j = 0; j < count; j++)
            ck_assert_status(mtask_pool_submit(pool, churn_task, NULL, &futures[j]), MTASK_OK);
        testing_dawdle(&random, 5000);
        if (testing_below(&random, 3) == 0)
            ck_assert_status(mtask_pool_close(pool), MTASK_OK);
        if (testing_below(&random, 3) == 0)
            ck_assert_status(mtask_pool_terminate(pool), MTASK_OK);
        ck_assert_status(mtask_pool_destroy(pool), MTASK_OK);
        self->number += check_survivors(futures, count);
    }
}

START_TEST(pools_come_and_go) {
    churn plan = {.seed = testing_seed(), .start = mtask_now(), .rounds = testing_scale(2000)};
    testing_crowd crowd;
    long ran = 0;
    testing_crowd_start(&crowd, 4, create_and_destroy, &plan);
    testing_crowd_join(&crowd);
    for (int i = 0; i < 4; i++)
        ran += crowd.members[i].number;
    ck_assert_int_eq(ran, READ(&churned));
    ck_assert_uint_le(mtask_thread_active_count(), 1 + 4);
}
END_TEST

/* ---- who waits in join when the pool is destroyed ---- */

static void join_pool(testing_member *self) {
    self->status = mtask_pool_join((mtask_pool *)self->arg, MTASK_FOREVER);
}

static void *pass_gate(void *arg) {
    ck_assert_status(mtask_event_wait((mtask_event *)arg, MTASK_FOREVER), MTASK_OK);
    return arg;
}

START_TEST(destroy_waits_for_those_who_join) {
    long rounds = testing_scale(60);
    int64_t start = mtask_now();
    for (long i = 0; i < rounds && (i < 3 || has_time(start)); i++) {
        mtask_pool_desc desc = {.workers = 1 + (unsigned)(i % 3)};
        mtask_event gate;
        mtask_pool *pool;
        testing_crowd crowd;
        memset(&gate, 0, sizeof gate);
        ck_assert_status(mtask_pool_create(&pool, &desc), MTASK_OK);
        ck_assert_status(mtask_pool_post(pool, pass_gate, &gate), MTASK_OK);
        ck_assert_status(mtask_pool_close(pool), MTASK_OK);
        testing_crowd_start(&crowd, 3, join_pool, pool);
        testing_crowd_await_asleep(&crowd, 3);
        mtask_event_set(&gate);
        ck_assert_status(mtask_pool_destroy(pool), MTASK_OK);
        testing_crowd_join(&crowd);
        ck_assert_int_eq(testing_crowd_count(&crowd, MTASK_OK), 3);
    }
}
END_TEST

TESTING_MAIN("pool_stress", tasks_run_once, tasks_run_once_or_are_cancelled,
             bounded_backlogs_lose_nothing, nested_tasks_in_several_pools_give_the_right_values,
             nested_tasks_come_to_an_end_with_few_threads, groups_are_freed_as_soon_as_they_end,
             close_at_any_moment_loses_nothing, terminate_at_any_moment_cancels_what_did_not_run,
             maps_and_loops_mix_with_tasks, everything_at_once,
             random_trees_of_jobs_give_what_a_serial_run_gives, no_submit_goes_unseen,
             no_spawn_goes_unseen, who_becomes_idle_finds_jobs_that_were_spawned_before,
             a_sleeper_hears_of_jobs_when_the_searcher_has_found_a_task,
             a_job_is_done_once_whoever_comes_first, pools_come_and_go,
             destroy_waits_for_those_who_join)
