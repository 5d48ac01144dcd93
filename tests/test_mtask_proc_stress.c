/* test_mtask_proc_stress.c - storms: processes are killed (SIGKILL) at random moments, while they work
   for a pool, hold a lock, use a queue, send a message, own daemons, serve forks; and several threads
   start, join, end and release processes, or fork while others are inside of everything

   1,000 kills with MTASK_TEST_SCALE=100. What can be demanded stands at each storm. All of them end,
   leave no process, no zombie and no descriptor behind.

   The sanitizers' allocators do not survive a fork while another thread is in them: under them the
   processes of storms with threads come from the fork server. */
#define TEST_TIMEOUT 60
#include "testing_proc.h"
#include "testing_pool.h"
#include "testing_queue.h"

#include <sys/prctl.h>

#ifdef MTASK_FORCE_POSIX
enum { CAN_SHARE = 0 }; /* MTASK_SHARED */
#else
enum { CAN_SHARE = 1 };
#endif

#if TESTING_TSAN
/* It knows nothing of the other users of a robust lock, nor what a forked child may do. */
const char *__tsan_default_options(void);
const char *__tsan_default_options(void) {
    return "die_after_fork=0:report_thread_leaks=0:report_mutex_bugs=0:report_destroy_locked=0";
}
#endif

enum { CHILDREN_MAY_DO_ALL = !TESTING_TSAN && !TESTING_ASAN };

/* How long what must come may take: a watchdog. */
#define PATIENCE MTASK_SEC(40)

static mtask_proc_method storm_method(void) {
    return CHILDREN_MAY_DO_ALL ? MTASK_PROC_FORK : MTASK_PROC_FORKSERVER;
}

enum { KEPT_FDS = 16 }; /* of the pipes by which threads that waited were woken */

/* testing_scale; where nothing tells of the end of a process, a pool notices it up to 20 ms later. */
static long storm_scale(long rounds) {
    return testing_scale(CAN_SHARE ? rounds : rounds / 4);
}

/* Fails the test if the storm left something behind: `fds` is what count_fds said before. */
static void check_calm(int fds) {
    ck_assert(!has_zombies());
    ck_assert_int_le(count_fds(), fds + KEPT_FDS);
}

static void *nothing(void *arg) {
    return arg;
}

/* ---- who kills ---- */

enum { TARGETS = 16 };

/* A thread that kills processes, and interrupts threads. */
typedef struct killer {
    size_t (*find)(void *ctx, pid_t *pids, size_t capacity); /* whom */
    void *ctx;
    long kills;        /* how many it is to kill */
    int64_t pause;     /* most nanoseconds between two of them */
    bool interrupts;   /* processes, too, not only `thread`: they have a handler of SIGUSR1 */
    pthread_t thread;  /* that it interrupts */
    mtask_word killed; /* so far, or about to be */
    uint64_t seed;
    testing_crowd crowd; /* itself */
} killer;

static void kill_one(killer *self, const pid_t *pids, size_t count, testing_random *random) {
    pid_t pid = pids[testing_below(random, count)];
    testing_check(pid > 1 && pid != getpid());
    if (self->interrupts && testing_below(random, 4) == 0) {
        (void)kill(pid, SIGUSR1);
        return;
    }
    (void)mtask_word_add(&self->killed, 1); /* before it can be noticed */
    if (kill(pid, SIGKILL) == 0)
        self->kills--;
}

static void killer_thread(testing_member *member) {
    killer *self = (killer *)member->arg;
    testing_random random = testing_random_make(self->seed, 1000);
    pid_t pids[TARGETS];
    while (self->kills > 0) {
        size_t count;
        ck_assert_status(mtask_sleep((int64_t)testing_below(&random, (uint64_t)self->pause)),
                         MTASK_OK);
        if (testing_below(&random, 4) == 0)
            testing_check(pthread_kill(self->thread, SIGUSR1) == 0);
        count = self->find(self->ctx, pids, TARGETS);
        if (count > 0)
            kill_one(self, pids, count < TARGETS ? count : TARGETS, &random);
    }
}

/* After testing_catch_signals. */
static void start_killer(killer *self) {
    self->thread = pthread_self();
    testing_crowd_start(&self->crowd, 1, killer_thread, self);
}

static bool is_killing(const killer *self) {
    return testing_crowd_finished(&self->crowd) == 0;
}

static long killed_so_far(const killer *self) {
    return (long)mtask_word_load(&self->killed);
}

/* ---- tasks of pools that show whether they came through whole ---- */

enum { SMALL = 900, BIG = 200000 };

/* What goes in, followed by the pattern from `tag` on; what comes out is the tag, and out_size bytes
   of the pattern from tag + 1 on. */
typedef struct job {
    uint32_t tag;
    uint32_t in_size;
    uint32_t out_size;
    uint32_t spin; /* how long it takes */
} job;

static job random_job(testing_random *random, uint32_t tag, bool big) {
    job made = {.tag = tag};
    uint64_t limit = big && testing_below(random, 4) == 0 ? BIG : SMALL;
    made.in_size = (uint32_t)testing_below(random, limit);
    made.out_size = (uint32_t)testing_below(random, limit);
    made.spin = testing_below(random, 8) == 0 ? (uint32_t)testing_below(random, 200000) : 0;
    return made;
}

/* In the process: bytes of the pattern, without Check. */
static bool has_pattern(const void *data, size_t offset, size_t size) {
    const unsigned char *bytes = (const unsigned char *)data;
    for (size_t i = 0; i < size; i++)
        if (bytes[i] != pattern_at(offset + i))
            return false;
    return true;
}

static mtask_status do_job(const void *in, size_t size, mtask_buf *out) {
    job given;
    if (size < sizeof given || (uintptr_t)in % 16 != 0)
        return MTASK_INVALID;
    memcpy(&given, in, sizeof given);
    if (size != sizeof given + given.in_size ||
        !has_pattern((const char *)in + sizeof given, given.tag, given.in_size))
        return MTASK_INVALID;
    for (volatile uint32_t left = given.spin; left > 0; left--) {
    }
    if (mtask_buf_append(out, &given.tag, sizeof given.tag) != MTASK_OK ||
        mtask_buf_reserve(out, given.out_size) != MTASK_OK)
        return MTASK_NOMEM;
    for (uint32_t i = 0; i < given.out_size; i++)
        out->data[out->size++] = (char)pattern_at(given.tag + 1 + i);
    return MTASK_OK;
}

/* Lays the input of the job out at `bytes`; how long it is. */
static size_t lay_out_job(const job *given, unsigned char *bytes) {
    memcpy(bytes, given, sizeof *given);
    make_pattern(bytes + sizeof *given, given->tag, given->in_size);
    return sizeof *given + given->in_size;
}

/* Fails the test unless that is what comes of the job. */
static void check_result(const job *given, const void *data, size_t size) {
    uint32_t tag;
    ck_assert_uint_eq(size, sizeof tag + given->out_size);
    memcpy(&tag, data, sizeof tag);
    ck_assert_uint_eq(tag, given->tag);
    check_pattern((const char *)data + sizeof tag, given->tag + 1, given->out_size);
}

/* ---- a pool whose processes are killed ---- */

enum { WORKERS = 3, WINDOW = 40 };

/* One task on its way. */
typedef struct flight {
    job job;
    mtask_future *future; /* NULL: none */
    bool canceled;
} flight;

typedef struct storm {
    mtask_procpool *pool;
    killer killer;
    testing_random random;
    bool big;
    uint32_t tag;    /* of the next task */
    long crashed;    /* tasks that were lost; of a map: chunks */
    int fds;         /* before */
    size_t ends;     /* tasks that have ended */
    mtask_word told; /* callbacks that have run */
    size_t to_tell;
    flight window[WINDOW];
    unsigned char bytes[sizeof(job) + BIG];
} storm;

static size_t find_workers(void *ctx, pid_t *pids, size_t capacity) {
    return mtask_procpool_pids(((storm *)ctx)->pool, pids, capacity);
}

static size_t find_workers_and_server(void *ctx, pid_t *pids, size_t capacity) {
    pid_t server = mtask_forkserver_pid();
    size_t count = mtask_procpool_pids(((storm *)ctx)->pool, pids, capacity - 1);
    if (count >= capacity)
        count = capacity - 1;
    if (server > 1)
        pids[count++] = server;
    return count;
}

static mtask_procpool *open_procpool(mtask_proc_method method, unsigned workers) {
    mtask_procpool_desc desc = {.workers = workers, .method = method};
    mtask_procpool *pool = NULL;
    ck_assert_status(mtask_procpool_create(&pool, &desc), MTASK_OK);
    return pool;
}

/* Makes what a process makes once, so that descriptors can be counted. */
static void warm_up(mtask_proc_method method) {
    ck_assert_status(mtask_procpool_destroy(open_procpool(method, 1)), MTASK_OK);
    ck_assert_status(mtask_forkserver_stop(), MTASK_OK);
}

static storm *begin_storm(mtask_proc_method method, long kills,
                          size_t (*find)(void *ctx, pid_t *pids, size_t capacity)) {
    storm *all = (storm *)calloc(1, sizeof *all);
    uint64_t seed = testing_seed();
    testing_check(all != NULL);
    testing_catch_signals();
    warm_up(method);
    all->fds = count_fds();
    all->random = testing_random_make(seed, 0);
    all->pool = open_procpool(method, WORKERS);
    all->killer.find = find;
    all->killer.ctx = all;
    all->killer.kills = kills;
    all->killer.pause = find == find_workers ? MTASK_MS(2) : MTASK_MS(6);
    all->killer.seed = seed;
    all->killer.interrupts = method == MTASK_PROC_FORK;
    start_killer(&all->killer);
    return all;
}

/* A killed process costs at most the one task that it ran. */
static void check_losses(const storm *all) {
    ck_assert_int_le(all->crashed, killed_so_far(&all->killer));
}

static void end_storm(storm *all) {
    mtask_procpool_stats stats = mtask_procpool_get_stats(all->pool);
    testing_crowd_join(&all->killer.crowd);
    check_losses(all);
    ck_assert_uint_eq(stats.pending + stats.running, 0);
    ck_assert_uint_eq(stats.workers, WORKERS);
    ck_assert_uint_ge(stats.started, WORKERS);
    ck_assert_status(mtask_procpool_close(all->pool), MTASK_OK);
    ck_assert_status(mtask_procpool_join(all->pool, PATIENCE), MTASK_OK);
    ck_assert_status(mtask_procpool_destroy(all->pool), MTASK_OK);
    (void)mtask_forkserver_stop();
    free(all);
}

/* ---- submit ---- */

static void count_success(const void *data, size_t size, void *ctx) {
    testing_check(data != NULL && size >= sizeof(uint32_t));
    (void)mtask_word_add(&((storm *)ctx)->told, 1);
}

static void count_failure(const mtask_outcome *outcome, void *ctx) {
    testing_check(outcome->status != MTASK_OK);
    (void)mtask_word_add(&((storm *)ctx)->told, 1);
}

static void take_off(storm *all, flight *one) {
    mtask_proctask_desc desc = {.fn = do_job, .in = all->bytes};
    one->job = random_job(&all->random, all->tag++, all->big);
    one->canceled = false;
    desc.in_size = lay_out_job(&one->job, all->bytes);
    desc.time_limit = testing_below(&all->random, 2) == 0 ? MTASK_SEC(1000) : 0; /* never met */
    if (testing_below(&all->random, 4) == 0) {
        desc.on_success = count_success;
        desc.on_failure = count_failure;
        desc.ctx = all;
        all->to_tell++;
    }
    ck_assert_status(mtask_procpool_submit_ex(all->pool, &desc, &one->future, PATIENCE), MTASK_OK);
}

/* Its result is right, or it was cancelled, or its process was killed. */
static void land(storm *all, flight *one) {
    mtask_outcome outcome;
    const void *data;
    size_t size = 0;
    mtask_status status;
    if (one->future == NULL)
        return;
    status = mtask_future_get(one->future, &outcome, PATIENCE);
    data = mtask_future_bytes(one->future, &size);
    if (one->canceled) {
        ck_assert_status(status, MTASK_CANCELED);
    } else if (status == MTASK_OK) {
        check_result(&one->job, data, size);
    } else {
        ck_assert_status(status, MTASK_FAILED);
        ck_assert_status(outcome.status, MTASK_CRASHED);
        ck_assert_str_ne(outcome.text, "");
        all->crashed++;
    }
    ck_assert(status == MTASK_OK || (data == NULL && size == 0));
    mtask_future_release(one->future);
    one->future = NULL;
    all->ends++;
}

/* Keeps tasks on their way until the killer is done. */
static void submit_in_storm(storm *all) {
    mtask_procpool_stats stats;
    while (is_killing(&all->killer)) {
        flight *one = &all->window[testing_below(&all->random, WINDOW)];
        land(all, one);
        take_off(all, one);
        one = &all->window[testing_below(&all->random, WINDOW)];
        if (one->future != NULL && testing_below(&all->random, 8) == 0)
            one->canceled |= mtask_future_cancel(one->future) == MTASK_OK;
    }
    for (int i = 0; i < WINDOW; i++)
        land(all, &all->window[i]);
    stats = mtask_procpool_get_stats(all->pool);
    ck_assert_uint_eq(stats.completed + stats.failed + stats.canceled, all->ends);
    ck_assert_uint_eq(stats.failed, (size_t)all->crashed);
    ck_assert_uint_ge(stats.crashed, (size_t)all->crashed);
    await_word(&all->told, (mtask_word)all->to_tell);
    ck_assert_uint_eq(mtask_word_load(&all->told), all->to_tell);
}

static void submit_while_killed(mtask_proc_method method, long kills, bool big) {
    storm *all = begin_storm(method, kills, find_workers);
    int fds = all->fds;
    all->big = big;
    submit_in_storm(all);
    end_storm(all);
    check_calm(fds);
}

START_TEST(killed_workers_cost_the_tasks_that_they_ran) {
    submit_while_killed(storm_method(), storm_scale(250), false);
}
END_TEST

START_TEST(killed_workers_do_not_tear_big_tasks_and_results) {
    submit_while_killed(storm_method(), storm_scale(150), true);
}
END_TEST

/* The fork server dies, too, now and then. */
START_TEST(pools_go_on_when_their_fork_server_is_killed) {
    storm *all = begin_storm(MTASK_PROC_FORKSERVER, storm_scale(60), find_workers_and_server);
    int fds = all->fds;
    submit_in_storm(all);
    end_storm(all);
    check_calm(fds);
}
END_TEST

/* ---- the order of tasks ---- */

/* Notes when it ran; the first one keeps its process until it is told to end. */
static mtask_status note_turn(const void *in, size_t size, mtask_buf *out) {
    mtask_word *turns[2];
    mtask_word turn;
    if (size != sizeof turns)
        return MTASK_INVALID;
    memcpy(turns, in, sizeof turns);
    turn = mtask_word_add(turns[0], 1) + 1;
    mtask_word_store(turns[1], turn);
    while (turn == 1 && mtask_word_load(turns[0]) < 1000)
        (void)mtask_sleep(MTASK_US(100));
    return mtask_buf_append(out, &turn, sizeof turn);
}

START_TEST(canceled_tasks_leave_the_order_of_the_others) {
    enum { ORDERED = 40 };
    mtask_word *turns = (mtask_word *)share_memory((ORDERED + 1) * sizeof *turns);
    mtask_procpool *pool = open_procpool(MTASK_PROC_FORK, 1); /* which has the memory, too */
    testing_random random = testing_random_make(testing_seed(), 0);
    mtask_future *futures[ORDERED];
    mtask_word last = 0;
    for (int i = 0; i < ORDERED; i++) {
        mtask_word *in[2] = {turns, &turns[i + 1]};
        ck_assert_status(mtask_procpool_submit(pool, note_turn, in, sizeof in, &futures[i]),
                         MTASK_OK);
        if (i == 0)
            await_word(turns, 1);
        else if (testing_below(&random, 3) == 0)
            (void)mtask_future_cancel(futures[testing_below(&random, (uint64_t)i) + 1]);
    }
    (void)mtask_word_add(turns, 1000);
    for (int i = 0; i < ORDERED; i++) {
        ck_assert_status(mtask_future_wait(futures[i], PATIENCE), MTASK_OK);
        ck_assert(mtask_future_canceled(futures[i]) || turns[i + 1] > last);
        last = turns[i + 1] > last ? turns[i + 1] : last;
        mtask_future_release(futures[i]);
    }
    ck_assert_status(mtask_procpool_destroy(pool), MTASK_OK);
}
END_TEST

/* ---- map ---- */

enum { ITEMS = 300 };

static mtask_status square(const void *in, size_t size, mtask_buf *out) {
    uint64_t number;
    if (size != sizeof number)
        return MTASK_INVALID;
    memcpy(&number, in, sizeof number);
    for (volatile uint64_t left = number % 16 == 0 ? 3000 : 0; left > 0; left--) {
    }
    number *= number;
    return mtask_buf_append(out, &number, sizeof number);
}

/* Chunks end whole: right, or crashed. */
static void check_squares(storm *all, const uint64_t *in, const uint64_t *out,
                          const mtask_status *statuses, size_t chunk) {
    for (size_t i = 0; i < ITEMS; i++) {
        ck_assert_status(statuses[i], statuses[i - i % chunk]);
        if (statuses[i] == MTASK_OK) {
            ck_assert_uint_eq(out[i], in[i] * in[i]);
            continue;
        }
        ck_assert_status(statuses[i], MTASK_CRASHED);
        all->crashed += i % chunk == 0;
    }
}

static void map_squares(storm *all) {
    uint64_t in[ITEMS], out[ITEMS];
    mtask_status statuses[ITEMS];
    mtask_outcome outcome;
    mtask_word progress = 0;
    long before = all->crashed;
    mtask_procmap_desc desc = {.fn = square, .count = ITEMS, .in = in, .in_size = sizeof in[0]};
    mtask_status status;
    for (size_t i = 0; i < ITEMS; i++)
        in[i] = testing_next(&all->random);
    memset(out, 0, sizeof out);
    desc.out = out;
    desc.out_size = sizeof out[0];
    desc.statuses = statuses;
    desc.chunk = 1 + (size_t)testing_below(&all->random, 20);
    desc.progress = &progress;
    status = mtask_procpool_map(all->pool, &desc, &outcome, PATIENCE);
    check_squares(all, in, out, statuses, desc.chunk);
    ck_assert_uint_eq(mtask_word_load(&progress), ITEMS);
    ck_assert_status(status, all->crashed > before ? MTASK_FAILED : MTASK_OK);
    ck_assert(status == MTASK_OK || outcome.status == MTASK_CRASHED);
}

/* The same with inputs and results of many sizes. */
static void map_jobs(storm *all) {
    enum { JOBS = 24 };
    static unsigned char inputs[JOBS][sizeof(job) + SMALL * 30];
    static mtask_buf outs[JOBS];
    mtask_bytes items[JOBS];
    mtask_status statuses[JOBS];
    job jobs[JOBS];
    mtask_procmap_desc desc = {.fn = do_job, .count = JOBS, .items = items, .outs = outs};
    for (int i = 0; i < JOBS; i++) {
        jobs[i] = random_job(&all->random, all->tag++, false);
        jobs[i].in_size *= i % 4 == 0 ? 30 : 1;
        items[i].data = inputs[i];
        items[i].size = lay_out_job(&jobs[i], inputs[i]);
    }
    desc.statuses = statuses;
    desc.chunk = 1 + (size_t)testing_below(&all->random, 6);
    (void)mtask_procpool_map(all->pool, &desc, NULL, PATIENCE);
    for (size_t i = 0; i < JOBS; i++) {
        if (statuses[i] == MTASK_OK)
            check_result(&jobs[i], outs[i].data, outs[i].size);
        else
            ck_assert_status(statuses[i], MTASK_CRASHED);
        all->crashed += statuses[i] != MTASK_OK && i % desc.chunk == 0;
        mtask_buf_free(&outs[i]);
    }
}

START_TEST(killed_workers_cost_a_map_the_chunks_that_they_had) {
    storm *all = begin_storm(storm_method(), storm_scale(130), find_workers);
    int fds = all->fds;
    while (is_killing(&all->killer)) {
        if (testing_below(&all->random, 3) == 0)
            map_jobs(all);
        else
            map_squares(all);
    }
    end_storm(all);
    check_calm(fds);
}
END_TEST

/* ---- imap ---- */

/* Makes jobs up from their indices; and looks at what has come of them. */
typedef struct stream_of_jobs {
    storm *all;
    uint64_t seed;
    size_t count;
    size_t pulled;
    size_t chunk;
    bool seen[ITEMS];
    bool crashed[ITEMS]; /* chunks */
} stream_of_jobs;

static job job_at(const stream_of_jobs *self, size_t index) {
    testing_random random = testing_random_make(self->seed, (unsigned)index);
    return random_job(&random, (uint32_t)index, index % 16 == 0);
}

static mtask_status next_job(mtask_buf *in, void *ctx) {
    stream_of_jobs *self = (stream_of_jobs *)ctx;
    job made;
    if (self->pulled == self->count)
        return MTASK_DONE;
    made = job_at(self, self->pulled++);
    ck_assert_status(mtask_buf_reserve(in, sizeof made + made.in_size), MTASK_OK);
    in->size += lay_out_job(&made, (unsigned char *)in->data + in->size);
    return MTASK_OK;
}

static void check_imap_item(stream_of_jobs *self, mtask_status status, const mtask_procitem *item) {
    job made = job_at(self, item->index);
    ck_assert_uint_lt(item->index, self->count);
    ck_assert(!self->seen[item->index]);
    self->seen[item->index] = true;
    ck_assert_status(status, item->status == MTASK_OK ? MTASK_OK : MTASK_FAILED);
    if (status == MTASK_OK) {
        check_result(&made, item->data, item->size);
        return;
    }
    ck_assert_status(item->status, MTASK_CRASHED);
    ck_assert_str_ne(item->text, "");
    self->all->crashed += !self->crashed[item->index / self->chunk];
    self->crashed[item->index / self->chunk] = true;
}

static void imap_jobs(storm *all, bool unordered) {
    stream_of_jobs self = {.all = all, .seed = testing_next(&all->random)};
    mtask_procimap_desc desc = {.fn = do_job, .input = next_job, .ctx = &self};
    mtask_procimap *imap;
    mtask_procitem item;
    mtask_status status;
    size_t taken = 0, enough;
    self.count = 1 + (size_t)testing_below(&all->random, ITEMS);
    self.chunk = desc.chunk = 1 + (size_t)testing_below(&all->random, 8);
    desc.unordered = unordered;
    enough = testing_below(&all->random, 4) == 0 ? self.count / 2 : self.count;
    ck_assert_status(mtask_procpool_imap(all->pool, &desc, &imap), MTASK_OK);
    for (; taken < enough; taken++) {
        status = mtask_procimap_next(imap, &item, PATIENCE);
        ck_assert(status == MTASK_OK || status == MTASK_FAILED);
        ck_assert(unordered || item.index == taken);
        check_imap_item(&self, status, &item);
    }
    if (enough == self.count)
        ck_assert_status(mtask_procimap_next(imap, &item, PATIENCE), MTASK_DONE);
    mtask_procimap_close(imap);
}

/* Returns when what closed iterators left behind has ended. */
static void await_idle(mtask_procpool *pool) {
    mtask_procpool_stats stats;
    do {
        stats = mtask_procpool_get_stats(pool);
        if (stats.pending + stats.running > 0)
            testing_pause(1);
    } while (stats.pending + stats.running > 0);
}

START_TEST(killed_workers_cost_an_imap_the_chunks_that_they_had) {
    storm *all = begin_storm(storm_method(), storm_scale(100), find_workers);
    int fds = all->fds;
    while (is_killing(&all->killer))
        imap_jobs(all, testing_below(&all->random, 2) == 0);
    await_idle(all->pool);
    end_storm(all);
    check_calm(fds);
}
END_TEST

/* ---- pools come and go ---- */

/* Tasks that would take for ever, or kill themselves, among others. */
static mtask_status do_strange_job(const void *in, size_t size, mtask_buf *out) {
    job given;
    memcpy(&given, in, sizeof given);
    if (given.tag % 16 == 1)
        (void)mtask_sleep(MTASK_SEC(1000));
    if (given.tag % 16 == 2)
        (void)raise(SIGKILL);
    if (given.tag % 16 == 3)
        _exit(3);
    return do_job(in, size, out);
}

static void check_strange_end(const flight *one, mtask_status status,
                              const mtask_outcome *outcome) {
    uint32_t kind = one->job.tag % 16;
    if (status == MTASK_CANCELED || (status == MTASK_FAILED && outcome->status == MTASK_CANCELED))
        return; /* the pool was ended */
    if (status == MTASK_OK) {
        size_t size;
        const void *data = mtask_future_bytes(one->future, &size);
        ck_assert(kind == 0 || kind > 3);
        check_result(&one->job, data, size);
        return;
    }
    ck_assert_status(status, MTASK_FAILED);
    if (outcome->status == MTASK_TIMEOUT)
        ck_assert_uint_eq(kind, 1);
    else
        ck_assert_status(outcome->status, MTASK_CRASHED);
}

/* A pool that is ended in the midst of its work, by one of the ways there are. */
static void run_short_pool(storm *all) {
    mtask_procpool *pool =
        open_procpool(storm_method(), 1 + (unsigned)testing_below(&all->random, 3));
    size_t count = (size_t)testing_below(&all->random, WINDOW + 1);
    uint64_t way = testing_below(&all->random, 3);
    mtask_outcome outcome = {.status = MTASK_INVALID};
    for (size_t i = 0; i < count; i++) {
        flight *one = &all->window[i];
        mtask_proctask_desc desc = {.fn = do_strange_job, .in = all->bytes};
        one->job = random_job(&all->random, all->tag++, true);
        desc.in_size = lay_out_job(&one->job, all->bytes);
        desc.time_limit = one->job.tag % 16 == 1 ? MTASK_MS(20) : 0;
        ck_assert_status(mtask_procpool_submit_ex(pool, &desc, &one->future, PATIENCE), MTASK_OK);
    }
    testing_dawdle(&all->random, 200000);
    if (way == 0)
        ck_assert_status(mtask_procpool_close(pool), MTASK_OK); /* all is still done */
    if (way == 1)
        ck_assert_status(mtask_procpool_terminate(pool), MTASK_OK);
    ck_assert_status(mtask_procpool_destroy(pool), MTASK_OK);
    for (size_t i = 0; i < count; i++) {
        flight *one = &all->window[i];
        mtask_status status = mtask_future_get(one->future, &outcome, MTASK_NOWAIT);
        ck_assert(way != 0 || (status != MTASK_CANCELED && outcome.status != MTASK_CANCELED));
        check_strange_end(one, status, &outcome);
        mtask_future_release(one->future);
        one->future = NULL;
    }
}

START_TEST(pools_come_and_go) {
    storm *all = (storm *)calloc(1, sizeof *all);
    testing_check(all != NULL);
    all->random = testing_random_make(testing_seed(), 0);
    warm_up(storm_method());
    all->fds = count_fds();
    for (long i = storm_scale(60); i > 0; i--)
        run_short_pool(all);
    check_calm(all->fds);
    free(all);
}
END_TEST

/* ---- owners of daemons and pools are killed ----

   This process adopts what they leave behind: nobody may stay. */

typedef struct owner {
    mtask_proc_method method;
    uint64_t kind;
    wires line;
    pid_t daemon;
} owner;

static mtask_status sleep_forever(const void *in, size_t size, mtask_buf *out) {
    (void)in;
    (void)size;
    (void)out;
    return mtask_sleep(MTASK_SEC(1000));
}

static void start_daemon(mtask_proc_method method, mtask_bytes_fn call) {
    mtask_proc_desc desc = {.call = call, .method = method, .daemon = true};
    mtask_proc_release(start_desc(&desc));
}

/* A daemon that has a daemon. */
static mtask_status own_a_daemon(const void *in, size_t size, mtask_buf *out) {
    start_daemon(MTASK_PROC_FORK, sleep_forever);
    return sleep_forever(in, size, out);
}

static void own_daemons(const owner *self) {
    for (int i = 0; i < 4; i++)
        start_daemon(self->method, i % 2 == 0 ? sleep_forever : own_a_daemon);
}

/* Its pool works when it is killed. */
static void own_a_pool(const owner *self) {
    static unsigned char bytes[sizeof(job) + BIG];
    testing_random random = testing_random_make((uint64_t)getpid(), 0);
    mtask_procpool *pool = open_procpool(self->method, 2);
    for (uint32_t tag = 0; tag < 200; tag++) {
        job one = random_job(&random, tag, true);
        size_t size = lay_out_job(&one, bytes);
        ck_assert_status(mtask_procpool_submit(pool, do_job, bytes, size, NULL), MTASK_OK);
    }
}

static void be_owner(void *arg) {
    const owner *self = (const owner *)arg;
    if (self->kind % 4 == 0 && fork() == 0) { /* which has all descriptors, and lives on */
        char byte;
        (void)!read(self->line.go[0], &byte, 1);
        _exit(0);
    }
    if (self->kind % 2 == 0)
        own_daemons(self);
    else
        own_a_pool(self);
    tell(&self->line, 'u');
    (void)mtask_sleep(MTASK_SEC(1000));
}

/* Returns when all that were left to this process have ended, but for `others`. */
static void adopt_and_bury(void) {
    while (waitpid(-1, NULL, 0) > 0) {
    }
    ck_assert_int_eq(errno, ECHILD);
}

static void kill_owner(owner *self, testing_random *random) {
    pid_t pid;
    open_wires(&self->line);
    self->kind = testing_next(random);
    pid = start_plain(be_owner, self);
    while (self->kind / 4 % 2 == 0 && polled(self->line.tell[0], POLLIN) == 0) {
        ck_assert_int_ne(state_of(pid), 'Z'); /* until it has all it is to have */
        testing_pause(1);
    }
    ck_assert_status(mtask_sleep((int64_t)testing_below(random, 4000000)), MTASK_OK);
    slay(pid);
    say_go(&self->line);
    adopt_and_bury();
    end_wires(&self->line);
}

static void kill_owners(mtask_proc_method method, long kills) {
    owner self = {.method = method};
    testing_random random = testing_random_make(testing_seed(), 0);
    ck_assert_int_eq(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), 0);
    while (kills-- > 0)
        kill_owner(&self, &random);
}

START_TEST(daemons_and_pools_end_with_their_owner) {
    kill_owners(MTASK_PROC_FORK, testing_scale(80));
}
END_TEST

START_TEST(daemons_that_were_not_forked_end_with_their_owner) {
    kill_owners(MTASK_PROC_FORKSERVER, testing_scale(12));
    kill_owners(MTASK_PROC_SPAWN, testing_scale(8));
}
END_TEST

/* Daemons end though others live on that have inherited all there is. */
static void own_daemon_and_others(void *arg) {
    owner *self = (owner *)arg; /* in shared memory */
    mtask_proc_desc desc = {.call = sleep_forever, .daemon = true};
    mtask_proc *daemon = start_desc(&desc);
    self->daemon = mtask_proc_pid(daemon);
    mtask_proc_release(start_wired(MTASK_PROC_FORK, wait_for_go, &self->line, false));
    if (fork() == 0) {
        tell(&self->line, 'c');
        await_go(&self->line);
        _exit(0);
    }
    (void)mtask_sleep(MTASK_SEC(1000));
}

START_TEST(who_is_left_does_not_keep_daemons_alive) {
    owner *self = (owner *)share_memory(sizeof *self);
    pid_t pid;
    ck_assert_int_eq(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), 0);
    open_wires(&self->line);
    pid = start_plain(own_daemon_and_others, self);
    (void)hear(&self->line);
    (void)hear(&self->line); /* both others live */
    slay(pid);
    await_end(self->daemon);
    say_go(&self->line);
    say_go(&self->line);
    adopt_and_bury();
    end_wires(&self->line);
}
END_TEST

/* ---- holders of shared locks are killed ---- */

enum { USERS = 3 };

/* What the locks guard: two numbers that are alike when nobody is at them. */
typedef struct court {
    mtask_shared_mutex mutex;
    long numbers[2];
    mtask_word mended;
} court;

typedef struct lock_storm {
    mtask_arena arena;
    mtask_array array;
    court *court;
    uint64_t seed;
    long rounds;
} lock_storm;

/* Two numbers of which a dead owner may have changed only the first. */
static void use_numbers(volatile long *numbers, bool owner_died, testing_random *random) {
    testing_check(numbers[0] == numbers[1] || (owner_died && numbers[0] == numbers[1] + 1));
    numbers[1] = numbers[0];
    numbers[0]++;
    testing_dawdle(random, 300);
    numbers[1]++;
}

static void use_mutex(court *all, testing_random *random) {
    mtask_status status = mtask_shared_mutex_lock_for(&all->mutex, PATIENCE);
    if (status == MTASK_OWNER_DEAD) {
        (void)mtask_word_add(&all->mended, 1);
        use_numbers(all->numbers, true, random);
        ck_assert_status(mtask_shared_mutex_consistent(&all->mutex), MTASK_OK);
    } else {
        ck_assert_status(status, MTASK_OK);
        use_numbers(all->numbers, false, random);
    }
    ck_assert_status(mtask_shared_mutex_unlock(&all->mutex), MTASK_OK);
}

static void use_array(mtask_array *array, testing_random *random) {
    long item;
    mtask_status status = mtask_array_lock(array, PATIENCE);
    if (status != MTASK_OWNER_DEAD)
        ck_assert_status(status, MTASK_OK);
    /* `get` and `set` may have been told of a dead owner instead */
    use_numbers((volatile long *)mtask_array_data(array), true, random);
    ck_assert_status(mtask_array_unlock(array), MTASK_OK);
    ck_assert_status(mtask_array_get(array, 2, &item), MTASK_OK);
    item++;
    ck_assert_status(mtask_array_set(array, 2, &item), MTASK_OK);
}

static void use_pieces(mtask_arena *arena, uint64_t *held[8], testing_random *random) {
    size_t at = (size_t)testing_below(random, 8);
    void *piece;
    if (held[at] != NULL) {
        testing_check(held[at][0] == (uint64_t)getpid() && held[at][7] == (uint64_t)getpid());
        ck_assert_status(mtask_arena_free(arena, held[at]), MTASK_OK);
        held[at] = NULL;
        return;
    }
    if (mtask_arena_alloc(arena, (size_t)64 << testing_below(random, 3), &piece) != MTASK_OK)
        return; /* the killed ones have it all */
    held[at] = (uint64_t *)piece;
    for (int i = 0; i < 8; i++)
        testing_check(held[at][i] == 0);
    held[at][0] = held[at][7] = (uint64_t)getpid();
}

static void use_locks(void *arg) {
    lock_storm *all = (lock_storm *)arg;
    testing_random random = testing_random_make(all->seed, (unsigned)getpid());
    uint64_t *held[8] = {NULL};
    for (long i = 0; i < all->rounds; i++) {
        use_mutex(all->court, &random);
        use_array(&all->array, &random);
        use_pieces(&all->arena, held, &random);
    }
    for (int i = 0; i < 8; i++)
        ck_assert_status(mtask_arena_free(&all->arena, held[i]), MTASK_OK);
}

START_TEST(killed_holders_of_locks_do_not_stop_the_others) {
    lock_storm all = {.seed = testing_seed(), .rounds = 1000000000};
    testing_random random = testing_random_make(all.seed, 0);
    mtask_status status = mtask_array_create(&all.array, NULL, 3, sizeof(long));
    pid_t pids[USERS];
    void *piece;
    if (status == MTASK_UNSUPPORTED && !CAN_SHARE)
        return;
    ck_assert_status(status, MTASK_OK);
    ck_assert_status(mtask_arena_create(&all.arena, NULL, 1 << 20), MTASK_OK);
    ck_assert_status(mtask_arena_alloc(&all.arena, sizeof(court), &piece), MTASK_OK);
    all.court = (court *)piece;
    ck_assert_status(mtask_shared_mutex_init(&all.court->mutex), MTASK_OK);
    for (int i = 0; i < USERS; i++)
        pids[i] = start_plain(use_locks, &all);
    for (long i = testing_scale(120); i > 0; i--) {
        pid_t *one = &pids[testing_below(&random, USERS)];
        ck_assert_status(mtask_sleep((int64_t)testing_below(&random, 2000000)), MTASK_OK);
        slay(*one);
        *one = start_plain(use_locks, &all);
    }
    for (int i = 0; i < USERS; i++)
        slay(pids[i]);
    all.rounds = 100;
    use_locks(&all);
    ck_assert_status(mtask_array_close(&all.array), MTASK_OK);
    ck_assert_status(mtask_arena_close(&all.arena), MTASK_OK);
}
END_TEST

/* ---- users of a shared queue are killed ----

   What is demanded: no item comes out twice; each consumer gets the items of a producer in their
   order; an item whose put has returned comes out, or was lost with a consumer that was killed
   between its get and the mark that it makes: one at most with each. Of a put that was killed in
   the midst, the item comes out or not. */

enum { PRODUCERS = 2, CONSUMERS = 2, SERIALS = 1 << 18 };

typedef struct queue_storm {
    MTASK_QUEUE_STORAGE(storage, 16, 2 * sizeof(uint32_t));
    mtask_queue queue; /* the parent's handle, which its children may use */
    struct {
        uint32_t begun; /* serial of the last item whose put has begun, and */
        uint32_t ended; /* has returned; 0: none */
    } producers[PRODUCERS];
    mtask_word stop;
    unsigned char marks[PRODUCERS][SERIALS]; /* how often it came out */
    unsigned char maybe[PRODUCERS][SERIALS]; /* its put was killed */
} queue_storm;

typedef struct queue_user {
    queue_storm *all;
    uint32_t index; /* of the producers; then of the consumers */
    pid_t pid;
} queue_user;

static void produce(queue_user *self) {
    queue_storm *all = self->all;
    uint32_t serial = all->producers[self->index].begun;
    while (mtask_word_load(&all->stop) == 0 && ++serial < SERIALS) {
        uint32_t item[2] = {self->index, serial};
        __atomic_store_n(&all->producers[self->index].begun, serial, __ATOMIC_SEQ_CST);
        ck_assert_status(mtask_queue_put(&all->queue, item, PATIENCE), MTASK_OK);
        __atomic_store_n(&all->producers[self->index].ended, serial, __ATOMIC_SEQ_CST);
    }
}

static void consume(queue_user *self) {
    queue_storm *all = self->all;
    uint32_t last[PRODUCERS] = {0}, item[2];
    mtask_status status;
    while ((status = mtask_queue_get(&all->queue, item, PATIENCE)) == MTASK_OK) {
        testing_check(item[0] < PRODUCERS && item[1] < SERIALS && item[1] > last[item[0]]);
        last[item[0]] = item[1];
        testing_check(__atomic_add_fetch(&all->marks[item[0]][item[1]], 1, __ATOMIC_SEQ_CST) == 1);
    }
    ck_assert_status(status, MTASK_CLOSED);
}

static void use_queue(void *arg) {
    queue_user *self = (queue_user *)arg;
    if (self->index < PRODUCERS)
        produce(self);
    else
        consume(self);
}

/* Kills a user and puts another in its place. */
static void replace_user(queue_user *self) {
    queue_storm *all = self->all;
    uint32_t begun;
    slay(self->pid);
    if (self->index < PRODUCERS) {
        begun = all->producers[self->index].begun;
        all->maybe[self->index][begun] = begun != all->producers[self->index].ended;
    }
    self->pid = start_plain(use_queue, self);
}

/* How many items are missing that had been put. */
static long count_lost(const queue_storm *all) {
    long lost = 0;
    for (int i = 0; i < PRODUCERS; i++)
        for (uint32_t serial = 1; serial <= all->producers[i].ended; serial++)
            lost += all->marks[i][serial] == 0 && all->maybe[i][serial] == 0;
    return lost;
}

static queue_storm *open_queue_storm(mtask_arena *arena, queue_user *users) {
    mtask_queue_desc desc = {.capacity = 16, .item_size = 2 * sizeof(uint32_t)};
    queue_storm *all;
    void *piece;
    ck_assert_status(mtask_arena_create(arena, NULL, 2 << 20), MTASK_OK);
    ck_assert_status(mtask_arena_alloc(arena, sizeof *all, &piece), MTASK_OK);
    all = (queue_storm *)piece;
    desc.storage = all->storage;
    desc.storage_size = sizeof all->storage;
    desc.flags = MTASK_SHARED;
    ck_assert_status(mtask_queue_init(&all->queue, &desc), MTASK_OK);
    for (uint32_t i = 0; i < PRODUCERS + CONSUMERS; i++) {
        users[i].all = all;
        users[i].index = i;
        users[i].pid = start_plain(use_queue, &users[i]);
    }
    return all;
}

START_TEST(killed_users_of_a_queue_lose_no_item_of_others) {
    testing_random random = testing_random_make(testing_seed(), 0);
    queue_user users[PRODUCERS + CONSUMERS];
    mtask_arena arena;
    queue_storm *all;
    long consumers = 0;
    if (!CAN_SHARE)
        return;
    all = open_queue_storm(&arena, users);
    for (long i = testing_scale(120); i > 0; i--) {
        queue_user *one = &users[testing_below(&random, PRODUCERS + CONSUMERS)];
        ck_assert_status(mtask_sleep((int64_t)testing_below(&random, 1000000)), MTASK_OK);
        consumers += one->index >= PRODUCERS;
        replace_user(one);
    }
    mtask_word_store(&all->stop, 1);
    for (int i = 0; i < PRODUCERS; i++)
        reap(users[i].pid);
    ck_assert_status(mtask_queue_close(&all->queue), MTASK_OK);
    for (int i = PRODUCERS; i < PRODUCERS + CONSUMERS; i++)
        reap(users[i].pid);
    ck_assert_uint_gt(all->producers[0].ended, 0);
    ck_assert_int_le(count_lost(all), consumers);
    ck_assert_status(mtask_queue_deinit(&all->queue), MTASK_OK);
    ck_assert_status(mtask_arena_close(&arena), MTASK_OK);
}
END_TEST

/* ---- senders and receivers of messages are killed ---- */

typedef struct mail {
    mtask_conn *in;
    mtask_conn *out;
    uint64_t seed;
} mail;

static size_t mail_size(const mail *self, unsigned serial) {
    testing_random random = testing_random_make(self->seed, serial);
    return (size_t)testing_below(&random, 1 << testing_below(&random, 19));
}

static void *send_mail(void *arg) {
    mail *self = (mail *)arg;
    static unsigned char bytes[1 << 19];
    ck_assert_status(mtask_conn_close(self->in), MTASK_OK);
    for (unsigned serial = 0;; serial++) {
        size_t size = mail_size(self, serial);
        make_pattern(bytes, serial, size);
        if (mtask_conn_send(self->out, bytes, size, PATIENCE) != MTASK_OK)
            _exit(9);
    }
    return NULL;
}

static void *receive_mail(void *arg) {
    mail *self = (mail *)arg;
    mtask_buf message = {0};
    ck_assert_status(mtask_conn_close(self->out), MTASK_OK);
    for (;;)
        if (mtask_conn_recv(self->in, &message, PATIENCE) != MTASK_OK)
            _exit(9);
    return NULL;
}

/* What comes is whole and in order; then it is the end. */
static void receive_from_killed(mail *self, mtask_proc *sender, uint64_t after) {
    mtask_buf message = {0};
    mtask_status status;
    unsigned serial = 0;
    while ((status = mtask_conn_recv(self->in, &message, PATIENCE)) == MTASK_OK) {
        ck_assert_uint_eq(message.size, mail_size(self, serial));
        check_pattern(message.data, serial, message.size);
        if (serial++ == after)
            ck_assert_status(mtask_proc_kill(sender), MTASK_OK);
    }
    ck_assert_status(status, MTASK_CLOSED);
    ck_assert_uint_gt(serial, after);
    mtask_buf_free(&message);
}

static void send_to_killed(mail *self, mtask_proc *receiver, uint64_t after) {
    static unsigned char bytes[1 << 19];
    mtask_status status;
    unsigned serial = 0;
    do {
        if (serial++ == after)
            ck_assert_status(mtask_proc_kill(receiver), MTASK_OK);
        status = mtask_conn_send(self->out, bytes, mail_size(self, serial), PATIENCE);
    } while (status == MTASK_OK);
    ck_assert_status(status, MTASK_BROKEN);
}

static void kill_in_mail(testing_random *random) {
    mail self = {.seed = testing_next(random)};
    bool sender = testing_below(random, 3) > 0;
    uint64_t after = testing_below(random, 12);
    mtask_proc *proc;
    ck_assert_status(mtask_pipe(&self.in, &self.out, false), MTASK_OK);
    proc = start_proc(sender ? send_mail : receive_mail, &self);
    ck_assert_status(mtask_conn_close(sender ? self.out : self.in), MTASK_OK);
    if (sender)
        receive_from_killed(&self, proc, after);
    else
        send_to_killed(&self, proc, after);
    ck_assert_status(end_proc(proc, MTASK_FAILED).status, MTASK_CRASHED);
    ck_assert_status(mtask_conn_close(sender ? self.in : self.out), MTASK_OK);
}

START_TEST(messages_of_killed_processes_are_whole_or_lost) {
    testing_random random = testing_random_make(testing_seed(), 0);
    int fds;
    kill_in_mail(&random);
    fds = count_fds();
    for (long i = testing_scale(80); i > 0; i--)
        kill_in_mail(&random);
    check_calm(fds);
}
END_TEST

/* ---- the fork server is killed ---- */

enum { STARTERS = 3 };

typedef struct server_storm {
    killer killer;
    uint64_t seed;
    mtask_word refused;
    mtask_word tasks;
    testing_crowd crowd;
} server_storm;

static size_t find_server(void *ctx, pid_t *pids, size_t capacity) {
    pid_t server = mtask_forkserver_pid();
    (void)ctx;
    testing_check(capacity > 0);
    pids[0] = server;
    return server > 1;
}

/* Either it is started, and then its result is right, whatever becomes of the server; or it is not. */
static void start_by_server(server_storm *all, testing_random *random) {
    uint64_t number = testing_next(random), result;
    mtask_proc_desc desc = {.call = square, .in = &number, .in_size = sizeof number};
    mtask_buf out = {0};
    mtask_proc *proc;
    mtask_status status;
    desc.method = MTASK_PROC_FORKSERVER;
    status = mtask_proc_start_ex(&proc, &desc);
    if (status == MTASK_BROKEN) {
        (void)mtask_word_add(&all->refused, 1);
        return;
    }
    ck_assert_status(status, MTASK_OK);
    (void)join_proc(proc, MTASK_OK);
    ck_assert_status(mtask_proc_result(proc, &out), MTASK_OK);
    ck_assert_uint_eq(out.size, sizeof result);
    memcpy(&result, out.data, sizeof result);
    ck_assert_uint_eq(result, number * number);
    mtask_buf_free(&out);
    ck_assert_status(mtask_proc_close(proc), MTASK_OK);
}

static void starter_thread(testing_member *self) {
    server_storm *all = (server_storm *)self->arg;
    testing_random random = testing_random_make(all->seed, (unsigned)self->index);
    while (is_killing(&all->killer))
        start_by_server(all, &random);
    start_by_server(all, &random);
}

START_TEST(a_killed_fork_server_is_replaced) {
    server_storm all = {.seed = testing_seed()};
    int fds;
    testing_catch_signals();
    ck_assert_status(mtask_forkserver_start(NULL), MTASK_OK);
    ck_assert_status(mtask_forkserver_stop(), MTASK_OK);
    fds = count_fds();
    all.killer.find = find_server;
    all.killer.kills = testing_scale(60);
    all.killer.pause = MTASK_MS(8);
    all.killer.seed = all.seed;
    start_killer(&all.killer);
    testing_crowd_start(&all.crowd, STARTERS, starter_thread, &all);
    testing_crowd_join(&all.crowd);
    testing_crowd_join(&all.killer.crowd);
    ck_assert_int_le((long)mtask_word_load(&all.refused), STARTERS * killed_so_far(&all.killer));
    ck_assert_status(mtask_forkserver_stop(), MTASK_OK);
    ck_assert_int_eq(mtask_forkserver_pid(), 0);
    ck_assert_status(mtask_proc_join_all(PATIENCE), MTASK_OK);
    check_calm(fds);
}
END_TEST

/* Tasks of one loop: while one waits for the server, another forks, or uses it, too. */
static void *use_server_in_task(void *arg) {
    server_storm *all = (server_storm *)arg;
    testing_random random = testing_random_make(all->seed, mtask_word_add(&all->tasks, 1));
    for (long i = testing_scale(30); i > 0; i--) {
        uint64_t action = testing_below(&random, 4);
        if (action == 0)
            ck_assert_status(mtask_forkserver_stop(), MTASK_OK);
        else if (action == 1)
            (void)end_proc(start_proc(nothing, NULL), MTASK_OK);
        else
            start_by_server(all, &random);
        ck_assert_status(mtask_yield(), MTASK_OK);
    }
    return NULL;
}

static void *use_server_in_loop(void *arg) {
    mtask_future *tasks[STARTERS];
    for (int i = 0; i < STARTERS; i++)
        tasks[i] = go(use_server_in_task, arg);
    for (int i = 0; i < STARTERS; i++)
        (void)take(tasks[i]);
    return NULL;
}

START_TEST(tasks_of_a_loop_share_the_fork_server) {
    server_storm all = {.seed = testing_seed()};
    (void)in_loop(use_server_in_loop, &all);
    ck_assert_uint_eq(mtask_word_load(&all.refused), 0);
    ck_assert_status(mtask_forkserver_stop(), MTASK_OK);
    ck_assert(!has_zombies());
}
END_TEST

/* ---- several threads start, join, end and release ---- */

enum { THREADS = 4 };

typedef enum way_to_end { RETURN, FAIL, EXIT, DIE, STAY, WAYS } way_to_end;

static mtask_status end_somehow(const void *in, size_t size, mtask_buf *out) {
    way_to_end way;
    testing_check(size == sizeof way);
    memcpy(&way, in, sizeof way);
    switch (way) {
    case FAIL:
        (void)mtask_fail(MTASK_EMPTY, "way %d", (int)way);
        return MTASK_OK;
    case EXIT:
        _exit(3);
    case DIE:
        (void)raise(SIGKILL);
        return MTASK_OK;
    case STAY:
        return mtask_sleep(MTASK_SEC(1000));
    default:
        return mtask_buf_append(out, "fine", 5);
    }
}

/* How a process ended that nobody sent a signal. */
static void check_end(mtask_proc *proc, way_to_end way) {
    mtask_buf out = {0};
    mtask_outcome outcome;
    static const int codes[] = {0, 1, 3, -SIGKILL};
    ck_assert_status(mtask_proc_join(proc, &outcome, PATIENCE),
                     way == RETURN ? MTASK_OK : MTASK_FAILED);
    ck_assert(way != DIE || outcome.status == MTASK_CRASHED);
    ck_assert_int_eq(exitcode_of(proc), codes[way]);
    if (way == FAIL) {
        ck_assert_status(outcome.status, MTASK_EMPTY);
        ck_assert_str_eq(outcome.text, "way 1");
    }
    ck_assert_status(mtask_proc_result(proc, &out), way == RETURN ? MTASK_OK : MTASK_FAILED);
    ck_assert(way != RETURN || strcmp(out.data, "fine") == 0);
    mtask_buf_free(&out);
}

/* It ends by the signal; or as it would have, if it was quicker. */
static void end_by_signal(mtask_proc *proc, way_to_end way, bool kill) {
    mtask_outcome outcome;
    mtask_status status;
    ck_assert_status(kill ? mtask_proc_kill(proc) : mtask_proc_terminate(proc), MTASK_OK);
    status = mtask_proc_join(proc, &outcome, PATIENCE);
    if (status == MTASK_FAILED && outcome.status == MTASK_CRASHED)
        ck_assert(exitcode_of(proc) == (kill ? -SIGKILL : -SIGTERM) || way == DIE);
    else
        ck_assert(way != STAY && status == (way == RETURN ? MTASK_OK : MTASK_FAILED));
}

static void live_and_end(testing_random *random) {
    way_to_end way = (way_to_end)testing_below(random, WAYS);
    mtask_proc *proc = start_call(storm_method(), end_somehow, &way, sizeof way);
    uint64_t action = testing_below(random, 4);
    mtask_proc_info infos[64];
    size_t count;
    testing_dawdle(random, 20000);
    if (action == 0)
        (void)mtask_proc_enumerate(infos, 64, &count);
    if (way != STAY && action < 2) {
        check_end(proc, way);
    } else if (way != STAY && action == 2) {
        mtask_proc_release(proc);
        return;
    } else {
        end_by_signal(proc, way, testing_below(random, 2) == 0);
    }
    ck_assert(!mtask_proc_is_alive(proc));
    ck_assert_status(mtask_proc_terminate(proc), MTASK_OK); /* nobody gets it */
    ck_assert_status(mtask_proc_close(proc), MTASK_OK);
}

typedef struct life {
    uint64_t seed;
    long rounds;
} life;

static void life_thread(testing_member *self) {
    life *all = (life *)self->arg;
    testing_random random = testing_random_make(all->seed, (unsigned)self->index);
    for (long i = 0; i < all->rounds; i++)
        live_and_end(&random);
}

START_TEST(threads_start_join_end_and_release_processes) {
    life all = {.seed = testing_seed(), .rounds = testing_scale(600)};
    testing_random random = testing_random_make(all.seed, 99);
    testing_crowd crowd;
    int fds;
    live_and_end(&random);
    ck_assert_status(mtask_proc_join_all(PATIENCE), MTASK_OK);
    fds = count_fds();
    testing_crowd_start(&crowd, THREADS, life_thread, &all);
    testing_crowd_join(&crowd);
    ck_assert_status(mtask_proc_join_all(PATIENCE), MTASK_OK);
    check_calm(fds);
}
END_TEST

/* Two join, one sends signals, one asks: all see the same end. */
typedef struct shared_handle {
    mtask_proc *proc;
    mtask_word stop;
} shared_handle;

static void use_handle(testing_member *self) {
    shared_handle *all = (shared_handle *)self->arg;
    int code = 0;
    switch (self->index) {
    case 0:
        ck_assert_status(mtask_proc_kill(all->proc), MTASK_OK);
        break;
    case 1:
        while (mtask_proc_is_alive(all->proc))
            sched_yield();
        break;
    case 2:
        while (mtask_proc_exitcode(all->proc, &code) == MTASK_TIMEOUT)
            sched_yield();
        testing_check(code == -SIGKILL);
        break;
    default:
        ck_assert_status(mtask_proc_join(all->proc, NULL, PATIENCE), MTASK_FAILED);
    }
    testing_check(self->index == 0 || exitcode_of(all->proc) == -SIGKILL);
}

START_TEST(threads_share_a_handle) {
    way_to_end way = STAY;
    for (long i = testing_scale(150); i > 0; i--) {
        shared_handle all = {.proc = start_call(storm_method(), end_somehow, &way, sizeof way)};
        testing_crowd crowd;
        testing_crowd_start(&crowd, 5, use_handle, &all);
        testing_crowd_join(&crowd);
        ck_assert_status(mtask_proc_close(all.proc), MTASK_OK);
    }
    ck_assert(!has_zombies());
}
END_TEST

/* ---- fork while other threads are inside of everything ---- */

/* What the threads of the parent use, and its children find. */
typedef struct house {
    mtask_word leave;
    mtask_pool *pool;
    mtask_procpool *procpool;
    mtask_proc *proc; /* one that has not been joined */
} house;

static void *set_it(void *arg) {
    mtask_event_set((mtask_event *)arg);
    return NULL;
}

static mtask_status nothing_at_all(const void *in, size_t size, mtask_buf *out) {
    return mtask_buf_append(out, in, size);
}

/* Each of these fails its process unless what it tries works. They use objects of their own, and not
   Check's assertions, which take a lock that a forked child may find taken. */
static void try_locks(void) {
    mtask_mutex mutex = {0};
    mtask_rmutex rmutex = {0};
    mtask_rwlock rwlock = {0};
    mtask_cond cond = {0};
    mtask_sem sem = {0};
    mtask_event event = {0};
    testing_check(mtask_mutex_lock(&mutex) == MTASK_OK);
    testing_check(mtask_mutex_lock_for(&mutex, MTASK_US(20)) == MTASK_TIMEOUT);
    testing_check(mtask_cond_wait(&cond, &mutex, MTASK_US(20)) == MTASK_TIMEOUT);
    testing_check(mtask_mutex_unlock(&mutex) == MTASK_OK);
    testing_check(mtask_rmutex_lock(&rmutex) == MTASK_OK);
    testing_check(mtask_rmutex_unlock(&rmutex) == MTASK_OK);
    testing_check(mtask_rwlock_lock_write(&rwlock) == MTASK_OK);
    testing_check(mtask_rwlock_lock_read_for(&rwlock, MTASK_US(20)) == MTASK_TIMEOUT);
    testing_check(mtask_sem_acquire(&sem, MTASK_US(20)) == MTASK_TIMEOUT);
    testing_check(mtask_event_wait(&event, MTASK_US(20)) == MTASK_TIMEOUT);
}

static void try_threads(void) {
    mtask_thread thread = {0};
    mtask_timer timer = {0};
    mtask_event event = {0};
    mtask_future *future;
    testing_check(mtask_thread_start(&thread, nothing, NULL) == MTASK_OK);
    testing_check(mtask_thread_join(&thread, NULL, PATIENCE) == MTASK_OK);
    testing_check(mtask_timer_start(&timer, 0, set_it, &event) == MTASK_OK);
    testing_check(mtask_event_wait(&event, PATIENCE) == MTASK_OK);
    (void)mtask_timer_cancel(&timer, MTASK_FOREVER);
    testing_check(mtask_future_create(&future, NULL) == MTASK_OK);
    testing_check(mtask_future_wait(future, MTASK_US(20)) == MTASK_TIMEOUT);
    mtask_future_release(future);
}

static void *sleep_a_little(void *arg) {
    (void)mtask_sleep(MTASK_US(20));
    (void)mtask_offload(nothing, NULL, NULL);
    return arg;
}

static void try_tasks(void) {
    mtask_pool *pool = open_pool(1);
    mtask_queue queue;
    run_task(pool, nothing, NULL);
    end_pool(pool);
    open_longs(&queue, MTASK_FIFO, 2);
    put_long(&queue, 3);
    testing_check(get_long(&queue) == 3);
    ck_assert_status(mtask_queue_deinit(&queue), MTASK_OK);
    (void)in_loop(sleep_a_little, NULL);
}

static void try_memory(void) {
    mtask_shm shm;
    mtask_array array;
    mtask_arena arena;
    char name[MTASK_SHM_NAME];
    long item = 4;
    void *piece;
    snprintf(name, sizeof name, "stress-%ld-%llu", (long)getpid(),
             (unsigned long long)mtask_task_id());
    ck_assert_status(mtask_shm_create(&shm, name, 100), MTASK_OK);
    ck_assert_status(mtask_shm_close(&shm), MTASK_OK);
    if (!CAN_SHARE)
        return;
    ck_assert_status(mtask_array_create(&array, NULL, 2, sizeof item), MTASK_OK);
    ck_assert_status(mtask_array_set(&array, 1, &item), MTASK_OK);
    ck_assert_status(mtask_array_close(&array), MTASK_OK);
    ck_assert_status(mtask_arena_create(&arena, NULL, 4096), MTASK_OK);
    ck_assert_status(mtask_arena_alloc(&arena, 64, &piece), MTASK_OK);
    ck_assert_status(mtask_arena_close(&arena), MTASK_OK);
}

static void try_messages(void) {
    mtask_conn *a, *b;
    mtask_buf message = {0};
    ck_assert_status(mtask_pipe(&a, &b, true), MTASK_OK);
    ck_assert_status(mtask_conn_send(a, "hi", 3, PATIENCE), MTASK_OK);
    ck_assert_status(mtask_conn_recv(b, &message, PATIENCE), MTASK_OK);
    testing_check(strcmp(message.data, "hi") == 0);
    mtask_buf_free(&message);
    ck_assert_status(mtask_conn_close(a), MTASK_OK);
    ck_assert_status(mtask_conn_close(b), MTASK_OK);
}

static void try_processes(void) {
    const char *command[] = {"true", NULL};
    mtask_cmd_result result;
    mtask_procpool *pool = open_procpool(MTASK_PROC_FORK, 1);
    ck_assert_status(mtask_cmd_run(command, NULL, &result), MTASK_OK);
    testing_check(result.code == 0);
    mtask_cmd_result_free(&result);
    ck_assert_status(mtask_procpool_call(pool, nothing_at_all, "x", 2, NULL, NULL, PATIENCE),
                     MTASK_OK);
    ck_assert_status(mtask_procpool_destroy(pool), MTASK_OK);
    (void)end_proc(start_proc(nothing, NULL), MTASK_OK);
}

/* In a forked child: everything works, and what is the parent's is refused. */
static void *use_all_in_child(void *arg) {
    house *all = (house *)arg;
    try_locks();
    ck_assert_status(mtask_procpool_submit(all->procpool, nothing_at_all, "x", 2, NULL),
                     MTASK_BROKEN);
    ck_assert_status(mtask_pool_post(all->pool, nothing, NULL), MTASK_BROKEN);
    ck_assert_status(mtask_proc_join(all->proc, NULL, MTASK_NOWAIT), MTASK_INVALID);
    ck_assert_status(mtask_proc_kill(all->proc), MTASK_INVALID);
    if (CHILDREN_MAY_DO_ALL) {
        try_memory();
        try_messages();
        try_threads();
        try_tasks();
        try_processes();
    }
    return (void *)1;
}

static void be_plain_child(void *arg) {
    (void)use_all_in_child(arg);
}

/* In the parent. */
static void submit_some(house *all) {
    mtask_future *futures[8];
    for (int i = 0; i < 8; i++)
        ck_assert_status(
            mtask_procpool_submit(all->procpool, nothing_at_all, &i, sizeof i, &futures[i]),
            MTASK_OK);
    for (int i = 0; i < 8; i++) {
        ck_assert_status(mtask_future_get(futures[i], NULL, PATIENCE), MTASK_OK);
        mtask_future_release(futures[i]);
    }
}

static void busy_thread(testing_member *self) {
    house *all = (house *)self->arg;
    while (mtask_word_load(&all->leave) == 0) {
        switch (self->index) {
        case 0:
            try_locks();
            try_threads();
            break;
        case 1:
            try_tasks();
            run_task(all->pool, nothing, NULL);
            break;
        case 2:
            try_memory();
            try_messages();
            break;
        case 3:
            submit_some(all);
            break;
        default:
            try_processes();
        }
    }
}

START_TEST(fork_while_others_are_inside_of_everything) {
    house all = {.pool = open_pool(2)};
    way_to_end way = STAY;
    testing_crowd crowd;
    all.procpool = open_procpool(MTASK_PROC_FORK, 2);
    all.proc = start_call(MTASK_PROC_FORK, end_somehow, &way, sizeof way);
    testing_crowd_start(&crowd, CHILDREN_MAY_DO_ALL ? 5 : 4, busy_thread, &all);
    for (long i = testing_scale(150); i > 0; i--) {
        if (i % 3 == 0)
            reap(start_plain(be_plain_child, &all));
        else
            ck_assert_int_eq(take_proc(start_proc(use_all_in_child, &all)), 1);
    }
    mtask_word_store(&all.leave, 1);
    testing_crowd_join(&crowd);
    ck_assert_status(mtask_proc_kill(all.proc), MTASK_OK);
    (void)end_proc(all.proc, MTASK_FAILED);
    ck_assert_status(mtask_procpool_destroy(all.procpool), MTASK_OK);
    end_pool(all.pool);
    ck_assert(!has_zombies());
}
END_TEST

TESTING_PROC_MAIN(
    "proc_stress", killed_workers_cost_the_tasks_that_they_ran,
    killed_workers_do_not_tear_big_tasks_and_results, pools_go_on_when_their_fork_server_is_killed,
    canceled_tasks_leave_the_order_of_the_others,
    killed_workers_cost_a_map_the_chunks_that_they_had,
    killed_workers_cost_an_imap_the_chunks_that_they_had, pools_come_and_go,
    daemons_and_pools_end_with_their_owner, daemons_that_were_not_forked_end_with_their_owner,
    who_is_left_does_not_keep_daemons_alive, killed_holders_of_locks_do_not_stop_the_others,
    killed_users_of_a_queue_lose_no_item_of_others, messages_of_killed_processes_are_whole_or_lost,
    a_killed_fork_server_is_replaced, tasks_of_a_loop_share_the_fork_server,
    threads_start_join_end_and_release_processes, threads_share_a_handle,
    fork_while_others_are_inside_of_everything)
