/* test_mtask_coro_stress.c - threads and tasks of two loops on the same objects; storms

   Most tests here are games: actors, some of them threads and some of them tasks of two loops, make
   steps on one object until a number of steps has been made. A manager in each loop cancels tasks
   at random and puts new ones in their place. An actor makes steps on tickets; one that is
   cancelled gives its ticket back. So every wait without a time-out is sure to end, unless a
   wake-up is lost: then the test hangs. What was done is counted on both sides. */
#include "testing_coro.h"
#include "testing_queue.h"
#include "testing_pool.h"

#include <errno.h>
#include <limits.h>

#define ADD(counter, n) __atomic_fetch_add((counter), (n), __ATOMIC_RELAXED)
#define READ(variable)  __atomic_load_n((variable), __ATOMIC_ACQUIRE)
#define WRITE(at, v)    __atomic_store_n((at), (v), __ATOMIC_RELEASE)

#define LOOPS   2
#define THREADS 2
#define SLOTS   4 /* actors of a loop */
#define ACTORS  (LOOPS * SLOTS + THREADS)

/* ---- games ---- */

#define ENDLESS LONG_MAX

struct game;

/* One who makes steps: a thread, or a place in a loop, with one task after the other. */
typedef struct actor {
    struct game *game;
    testing_random random;
    int index;
    int role;           /* 0 or 1 */
    mtask_future *task; /* NULL: a thread, or none yet */
    mtask_word round;   /* for the games */
} actor;

typedef struct game {
    mtask_status (*step[2])(actor *self); /* MTASK_OK: a step; MTASK_CANCELED: the task is; others
                                             mean: once more. [1] NULL: there is one role */
    long wanted;                          /* steps of each role; ENDLESS: until `stop` */
    long rounds;                          /* of a game that is endless */
    bool calm;                            /* nobody is cancelled */
    bool stop;                            /* it is over, however many steps were made */
    long tickets[2];                      /* that nobody has yet */
    long made[2];
    long cancels;
    actor actors[ACTORS];
    uint64_t seed;
    /* what the actors play with */
    mtask_queue queue;
    mtask_mutex mutex;
    mtask_rmutex rmutex;
    mtask_sem sem;
    mtask_cond cond;
    mtask_rwlock rwlock;
    mtask_barrier barrier;
    mtask_event doors[2];
    mtask_word passed[2];
    long plain[2]; /* alike when nobody is at work on them */
    long tokens;
    long inside;
    long met[ACTORS];
    uint32_t next;      /* the items: numbers, */
    unsigned char *put; /* which were put, */
    unsigned char *got; /* and how often they came out */
} game;

static bool claim_ticket(game *g, int role) {
    long left = __atomic_load_n(&g->tickets[role], __ATOMIC_RELAXED);
    while (left > 0)
        if (__atomic_compare_exchange_n(&g->tickets[role], &left, left - 1, false, __ATOMIC_RELAXED,
                                        __ATOMIC_RELAXED))
            return true;
    return false;
}

static bool is_over(game *g) {
    bool made =
        READ(&g->made[0]) >= g->wanted && (g->step[1] == NULL || READ(&g->made[1]) >= g->wanted);
    return made || READ(&g->stop);
}

/* Makes steps until there are no tickets, or the task is cancelled. */
static void *actor_main(void *arg) {
    actor *self = (actor *)arg;
    game *g = self->game;
    while (!READ(&g->stop) && claim_ticket(g, self->role)) {
        mtask_status status = MTASK_TIMEOUT;
        while (status != MTASK_OK && status != MTASK_CANCELED && !READ(&g->stop))
            status = g->step[self->role](self);
        if (status == MTASK_OK)
            (void)__atomic_fetch_add(&g->made[self->role], 1, __ATOMIC_ACQ_REL);
        else
            (void)ADD(&g->tickets[self->role], 1);
        testing_check(status != MTASK_CANCELED || mtask_canceled());
        if (status == MTASK_CANCELED)
            return NULL;
    }
    return NULL;
}

/* Ends the task of a place, and puts another one there. */
static void replace(actor *self) {
    if (self->task != NULL) {
        ck_assert_status(mtask_future_wait(self->task, MTASK_FOREVER), MTASK_OK);
        mtask_future_release(self->task);
    }
    self->task = is_over(self->game) ? NULL : go(actor_main, self);
}

/* The first task of a loop: keeps its places filled, and cancels. */
static void *manage(void *arg) {
    actor *places = (actor *)arg;
    game *g = places->game;
    testing_random random = testing_random_make(g->seed, 100 + (unsigned)places->index);
    for (int i = 0; i < SLOTS; i++)
        replace(&places[i]);
    while (!is_over(g)) {
        actor *one = &places[testing_below(&random, SLOTS)];
        ck_assert_status(mtask_sleep(MTASK_US(testing_below(&random, 400))), MTASK_OK);
        if (!g->calm && !mtask_future_done(one->task) && mtask_future_cancel(one->task) == MTASK_OK)
            (void)ADD(&g->cancels, 1);
        for (int i = 0; i < SLOTS; i++)
            if (mtask_future_done(places[i].task) || (!g->calm && &places[i] == one))
                replace(&places[i]);
    }
    for (int i = 0; i < SLOTS; i++)
        while (places[i].task != NULL)
            replace(&places[i]);
    return NULL;
}

static void player_thread(testing_member *self) {
    game *g = (game *)self->arg;
    if (self->index < LOOPS) {
        (void)in_loop(manage, &g->actors[self->index * SLOTS]);
        return;
    }
    while (!is_over(g)) { /* a cancelled task may still give a ticket back */
        (void)actor_main(&g->actors[LOOPS * SLOTS + self->index - LOOPS]);
        ck_assert_status(mtask_sleep(MTASK_US(50)), MTASK_OK);
    }
}

static void play_game(game *g) {
    testing_crowd crowd;
    g->seed = testing_seed();
    for (int i = 0; i < ACTORS; i++) {
        g->actors[i].game = g;
        g->actors[i].index = i;
        g->actors[i].role = g->step[1] != NULL ? i % 2 : 0;
        g->actors[i].random = testing_random_make(g->seed, (unsigned)i);
    }
    g->tickets[0] = g->tickets[1] = g->wanted;
    testing_crowd_start(&crowd, LOOPS + THREADS, player_thread, g);
    testing_crowd_join(&crowd);
}

/* For ever, or not at all, or for a moment. */
static int64_t any_timeout(actor *self) {
    uint64_t what = testing_below(&self->random, 8);
    if (what == 0)
        return MTASK_NOWAIT;
    return what < 3 ? MTASK_US(testing_below(&self->random, 300)) : MTASK_FOREVER;
}

/* Now and then lets others run, with all that is held. */
static void linger(actor *self) {
    uint64_t what = testing_below(&self->random, 64);
    if (what == 0)
        (void)mtask_sleep(MTASK_US(testing_below(&self->random, 50)));
    else if (what < 4)
        (void)mtask_yield();
}

/* ---- a queue: nothing lost, nothing doubled ---- */

#define SPARE 100000 /* numbers of items that are not put, because the task was cancelled */

static mtask_status put_one(actor *self) {
    game *g = self->game;
    long item = (long)ADD(&g->next, 1);
    mtask_status status;
    testing_check(item < 2 * g->wanted + SPARE);
    do {
        status = mtask_queue_put(&g->queue, &item, any_timeout(self));
    } while (status == MTASK_FULL);
    if (status == MTASK_OK)
        (void)ADD(&g->put[item], 1);
    return status;
}

static mtask_status get_one(actor *self) {
    game *g = self->game;
    long item;
    mtask_queue_case one;
    mtask_status status;
    memset(&one, 0, sizeof one);
    one.queue = &g->queue;
    one.item = &item;
    if (testing_below(&self->random, 4) == 0)
        status = mtask_queue_select(&one, 1, NULL, any_timeout(self));
    else
        status = mtask_queue_get(&g->queue, &item, any_timeout(self));
    if (status == MTASK_OK)
        (void)ADD(&g->got[item], 1);
    return status;
}

static void check_items(const game *g) {
    long moved = 0;
    for (uint32_t i = 0; i < g->next; i++) {
        testing_check(g->put[i] == g->got[i] && g->put[i] <= 1);
        moved += g->put[i];
    }
    ck_assert_int_eq(moved, g->wanted);
}

static void play_queue(mtask_queue_kind kind, size_t capacity, long items) {
    game g = {.step = {put_one, get_one}};
    g.wanted = testing_scale(items);
    g.put = (unsigned char *)calloc((size_t)(2 * g.wanted + SPARE), 1);
    g.got = (unsigned char *)calloc((size_t)(2 * g.wanted + SPARE), 1);
    testing_check(g.put != NULL && g.got != NULL);
    open_longs(&g.queue, kind, capacity);
    play_game(&g);
    check_items(&g);
    ck_assert_status(mtask_queue_deinit(&g.queue), MTASK_OK);
    free(g.put);
    free(g.got);
}

START_TEST(queue_of_one) {
    play_queue(MTASK_FIFO, 1, 20000);
}
END_TEST

START_TEST(queue_of_some) {
    play_queue(MTASK_FIFO, 16, 60000);
    play_queue(MTASK_LIFO, 5, 20000);
    play_queue(MTASK_PRIORITY, 7, 20000);
}
END_TEST

START_TEST(queue_of_many) {
    play_queue(MTASK_FIFO, 1024, 300000);
}
END_TEST

/* ---- locks ---- */

static void at_work(actor *self) {
    game *g = self->game;
    long seen = g->plain[0]++;
    linger(self);
    testing_check(g->plain[1]++ == seen);
}

static mtask_status lock_mutex(actor *self) {
    mtask_status status = mtask_mutex_lock_for(&self->game->mutex, any_timeout(self));
    if (status != MTASK_OK)
        return status;
    at_work(self);
    return mtask_mutex_unlock(&self->game->mutex);
}

static mtask_status lock_rmutex(actor *self) {
    mtask_status status = mtask_rmutex_lock_for(&self->game->rmutex, any_timeout(self));
    if (status != MTASK_OK)
        return status;
    ck_assert_status(mtask_rmutex_lock(&self->game->rmutex), MTASK_OK);
    at_work(self);
    ck_assert_status(mtask_rmutex_unlock(&self->game->rmutex), MTASK_OK);
    return mtask_rmutex_unlock(&self->game->rmutex);
}

static void check_plain(const game *g, long steps) {
    ck_assert_int_eq(g->plain[0], steps);
    ck_assert_int_eq(g->plain[1], steps);
}

START_TEST(mutex_and_rmutex) {
    game g = {.step = {lock_mutex}, .wanted = testing_scale(100000)};
    game r = {.step = {lock_rmutex}, .wanted = testing_scale(50000)};
    play_game(&g);
    check_plain(&g, g.wanted);
    play_game(&r);
    check_plain(&r, r.wanted);
}
END_TEST

static mtask_status write_lock(actor *self) {
    mtask_status status = mtask_rwlock_lock_write_for(&self->game->rwlock, any_timeout(self));
    if (status != MTASK_OK)
        return status;
    at_work(self);
    return mtask_rwlock_unlock_write(&self->game->rwlock);
}

static mtask_status read_lock(actor *self) {
    game *g = self->game;
    mtask_status status = mtask_rwlock_lock_read_for(&g->rwlock, any_timeout(self));
    if (status != MTASK_OK)
        return status;
    testing_check(g->plain[0] == g->plain[1]);
    linger(self);
    testing_check(g->plain[0] == g->plain[1]);
    return mtask_rwlock_unlock_read(&g->rwlock);
}

START_TEST(rwlock) {
    game g = {.step = {write_lock, read_lock}, .wanted = testing_scale(50000)};
    play_game(&g);
    check_plain(&g, g.wanted);
}
END_TEST

/* ---- a semaphore, a condition ---- */

#define UNITS 3

static mtask_status use_unit(actor *self) {
    game *g = self->game;
    mtask_status status = mtask_sem_acquire(&g->sem, any_timeout(self));
    if (status != MTASK_OK)
        return status;
    testing_check(ADD(&g->inside, 1) < UNITS);
    linger(self);
    (void)ADD(&g->inside, -1);
    return mtask_sem_release(&g->sem, 1);
}

START_TEST(semaphore) {
    game g = {.step = {use_unit}, .wanted = testing_scale(100000)};
    ck_assert_status(mtask_sem_init(&g.sem, UNITS, UNITS, 0), MTASK_OK);
    play_game(&g);
    ck_assert_int_eq((long)mtask_sem_value(&g.sem), UNITS);
}
END_TEST

static mtask_status bring_token(actor *self) {
    game *g = self->game;
    ck_assert_status(mtask_mutex_lock(&g->mutex), MTASK_OK);
    g->tokens++;
    ck_assert_status(mtask_cond_notify(&g->cond, 1), MTASK_OK);
    ck_assert_status(mtask_mutex_unlock(&g->mutex), MTASK_OK);
    linger(self);
    return MTASK_OK;
}

static mtask_status take_token(actor *self) {
    game *g = self->game;
    mtask_status status = MTASK_OK;
    ck_assert_status(mtask_mutex_lock(&g->mutex), MTASK_OK);
    while (status == MTASK_OK && g->tokens == 0)
        status = mtask_cond_wait(&g->cond, &g->mutex, any_timeout(self));
    if (g->tokens > 0) { /* also if it was cancelled: it may have been notified before */
        g->tokens--;
        status = MTASK_OK;
    }
    ck_assert_status(mtask_mutex_unlock(&g->mutex), MTASK_OK);
    return status;
}

START_TEST(condition) {
    game g = {.step = {bring_token, take_token}, .wanted = testing_scale(50000)};
    play_game(&g);
    ck_assert_int_eq(g.tokens, 0);
}
END_TEST

/* ---- meetings ---- */

/* Meets the others at the barrier: each meeting gives each index once, whoever gives up between
   meetings. */
static mtask_status meet(actor *self) {
    game *g = self->game;
    uint32_t index = 0;
    bool patient = testing_below(&self->random, 64) != 0;
    int64_t timeout = patient ? MTASK_FOREVER : MTASK_US(testing_below(&self->random, 500));
    mtask_status status = mtask_barrier_wait(&g->barrier, &index, timeout);
    if (status == MTASK_OK && ADD(&g->met[index], 1) == g->rounds)
        WRITE(&g->stop, true);
    if (status == MTASK_BROKEN)
        (void)mtask_yield(); /* whoever broke it has to run to mend it */
    else if (status != MTASK_OK)
        ck_assert_status(mtask_barrier_reset(&g->barrier), MTASK_OK);
    if (READ(&g->stop)) /* those who still wait must not wait for ever */
        ck_assert_status(mtask_barrier_abort(&g->barrier), MTASK_OK);
    return status;
}

START_TEST(barrier) {
    game g = {.step = {meet}, .wanted = ENDLESS, .rounds = testing_scale(2000)};
    ck_assert_status(mtask_barrier_init(&g.barrier, ACTORS, NULL, NULL, 0), MTASK_OK);
    play_game(&g);
    for (int i = 1; i < ACTORS; i++)
        ck_assert_int_eq(g.met[i], g.met[0]);
}
END_TEST

/* All pass the door of their round when it is open. The last one closes it behind all, and opens the
   next. */
static mtask_status pass_door(actor *self) {
    game *g = self->game;
    mtask_word side = self->round % 2;
    mtask_status status = mtask_event_wait(&g->doors[side], any_timeout(self));
    if (status != MTASK_OK)
        return status;
    self->round++;
    if (mtask_word_add(&g->passed[side], 1) + 1 == ACTORS) {
        mtask_event_clear(&g->doors[side]);
        mtask_word_store(&g->passed[side], 0);
        if (self->round == (mtask_word)g->rounds)
            WRITE(&g->stop, true);
        mtask_event_set(&g->doors[1 - side]);
    }
    return MTASK_OK;
}

START_TEST(events) {
    game g = {.step = {pass_door}, .wanted = ENDLESS, .rounds = testing_scale(5000)};
    mtask_event_set(&g.doors[0]);
    play_game(&g);
    for (int i = 0; i < ACTORS; i++)
        testing_check(g.actors[i].round - (mtask_word)g.rounds <= 1);
}
END_TEST

/* ---- who waited frees the object at once ---- */

/* What a task waits for, in memory that is freed as soon as it has been woken; a thread wakes it, and
   may still be in its call. AddressSanitizer and ThreadSanitizer see whoever touches it then. */
typedef struct short_lived {
    int kind;
    mtask_sem sem;
    mtask_event event;
    mtask_waitgroup group;
    mtask_mutex mutex;
    mtask_future *future;
    mtask_queue queue;
} short_lived;

enum { SHORT_SEM, SHORT_EVENT, SHORT_GROUP, SHORT_MUTEX, SHORT_FUTURE, SHORT_QUEUE, SHORT_KINDS };

typedef struct relay {
    short_lived *next; /* for the thread; NULL: none */
    bool over;
    uint64_t seed;
} relay;

static short_lived *open_short(int kind) {
    short_lived *one = (short_lived *)calloc(1, sizeof *one);
    testing_check(one != NULL);
    one->kind = kind;
    if (kind == SHORT_GROUP)
        ck_assert_status(mtask_waitgroup_add(&one->group, 1), MTASK_OK);
    if (kind == SHORT_MUTEX)
        ck_assert_status(mtask_mutex_lock(&one->mutex), MTASK_OK);
    if (kind == SHORT_FUTURE)
        ck_assert_status(mtask_future_create(&one->future, NULL), MTASK_OK);
    if (kind == SHORT_QUEUE)
        open_longs(&one->queue, MTASK_FIFO, 1);
    return one;
}

static void wait_short(short_lived *one) {
    mtask_status status = MTASK_OK;
    if (one->kind == SHORT_SEM)
        status = mtask_sem_acquire(&one->sem, MTASK_FOREVER);
    else if (one->kind == SHORT_EVENT)
        status = mtask_event_wait(&one->event, MTASK_FOREVER);
    else if (one->kind == SHORT_GROUP)
        status = mtask_waitgroup_wait(&one->group, MTASK_FOREVER);
    else if (one->kind == SHORT_MUTEX)
        status = mtask_mutex_lock(&one->mutex);
    else if (one->kind == SHORT_FUTURE)
        status = mtask_future_wait(one->future, MTASK_FOREVER);
    else
        status = mtask_queue_get(&one->queue, &(long){0}, MTASK_FOREVER);
    ck_assert_status(status, MTASK_OK);
}

static void end_short(short_lived *one) {
    mtask_future_release(one->future);
    if (one->kind == SHORT_QUEUE)
        ck_assert_status(mtask_queue_deinit(&one->queue), MTASK_OK);
    free(one);
}

/* The future is the thread's, too. */
static void wake_short(int kind, short_lived *one, mtask_future *future) {
    if (kind == SHORT_SEM)
        ck_assert_status(mtask_sem_release(&one->sem, 1), MTASK_OK);
    else if (kind == SHORT_EVENT)
        mtask_event_set(&one->event);
    else if (kind == SHORT_GROUP)
        ck_assert_status(mtask_waitgroup_done(&one->group), MTASK_OK);
    else if (kind == SHORT_MUTEX)
        ck_assert_status(mtask_mutex_unlock(&one->mutex), MTASK_OK);
    else if (kind == SHORT_FUTURE)
        ck_assert_status(mtask_future_set(future, NULL), MTASK_OK);
    else
        put_long(&one->queue, 1);
}

static void relay_thread(testing_member *self) {
    relay *shared = (relay *)self->arg;
    testing_random random = testing_random_make(shared->seed, 1);
    while (!READ(&shared->over)) {
        short_lived *one = __atomic_exchange_n(&shared->next, NULL, __ATOMIC_ACQUIRE);
        mtask_future *future;
        if (one == NULL) {
            sched_yield();
            continue;
        }
        future = one->future != NULL ? mtask_future_retain(one->future) : NULL;
        testing_dawdle(&random, testing_below(&random, 4) == 0 ? 4000 : 64);
        wake_short(one->kind, one, future);
        mtask_future_release(future);
    }
}

static void *relay_main(void *arg) {
    relay *shared = (relay *)arg;
    testing_random random = testing_random_make(shared->seed, 0);
    int64_t start = mtask_now();
    long rounds = testing_scale(20000);
    for (long round = 0; round < rounds && testing_has_time(start); round++) {
        short_lived *one = open_short((int)(round % SHORT_KINDS));
        WRITE(&shared->next, one);
        testing_dawdle(&random, 64);
        wait_short(one);
        end_short(one);
    }
    WRITE(&shared->over, true);
    return NULL;
}

START_TEST(objects_freed_by_the_task_that_waited) {
    relay shared = {.seed = testing_seed()};
    testing_crowd crowd;
    testing_crowd_start(&crowd, 1, relay_thread, &shared);
    (void)in_loop(relay_main, &shared);
    testing_crowd_join(&crowd);
}
END_TEST

/* ---- sleepers ---- */

/* Tasks that sleep for random times and are cancelled at random, by a sibling and by a thread. */
typedef struct dormitory {
    mtask_future **sleepers;
    long count;
    uint64_t seed;
    bool ready; /* all have been started */
    long awake;
    long canceled;
} dormitory;

static dormitory *the_dormitory;

static void *sleep_some(void *arg) {
    dormitory *all = the_dormitory;
    testing_random random = testing_random_make(all->seed, (unsigned)(uintptr_t)arg);
    int64_t begin = mtask_now();
    int64_t time = MTASK_US(testing_below(&random, 30000));
    mtask_status status = mtask_sleep(time);
    if (status == MTASK_OK) {
        testing_check(mtask_now() - begin >= time);
        (void)ADD(&all->awake, 1);
        return NULL;
    }
    ck_assert_status(status, MTASK_CANCELED);
    (void)ADD(&all->canceled, 1);
    ck_assert_status(mtask_sleep(MTASK_SEC(1000)), MTASK_CANCELED); /* it stays so */
    return mtask_fail(MTASK_CANCELED, NULL);
}

static void cancel_some(dormitory *all, unsigned who) {
    testing_random random = testing_random_make(all->seed, 1000000 + who);
    for (long i = 0; i < all->count / 4; i++) {
        (void)mtask_future_cancel(all->sleepers[testing_below(&random, (uint64_t)all->count)]);
        if (i % 16 == 0)
            ck_assert_status(mtask_sleep(MTASK_US(testing_below(&random, 100))), MTASK_OK);
    }
}

static void cancel_from_thread(testing_member *self) {
    dormitory *all = (dormitory *)self->arg;
    while (!READ(&all->ready))
        sched_yield();
    cancel_some(all, 1);
}

static void *sleepers_main(void *arg) {
    dormitory *all = (dormitory *)arg;
    for (long i = 0; i < all->count; i++)
        all->sleepers[i] = go(sleep_some, (void *)(uintptr_t)i);
    WRITE(&all->ready, true);
    cancel_some(all, 0);
    for (long i = 0; i < all->count; i++)
        ck_assert_status(mtask_future_wait(all->sleepers[i], MTASK_FOREVER), MTASK_OK);
    return NULL;
}

START_TEST(sleepers_are_cancelled) {
    dormitory all = {.count = testing_scale(8000), .seed = testing_seed()};
    testing_crowd crowd;
    long never = 0;
    all.sleepers = (mtask_future **)calloc((size_t)all.count, sizeof *all.sleepers);
    testing_check(all.sleepers != NULL);
    the_dormitory = &all;
    testing_crowd_start(&crowd, 1, cancel_from_thread, &all);
    (void)in_loop(sleepers_main, &all);
    testing_crowd_join(&crowd);
    for (long i = 0; i < all.count; i++) {
        never += mtask_future_canceled(all.sleepers[i]); /* before it began */
        mtask_future_release(all.sleepers[i]);
    }
    ck_assert_int_eq(all.awake + all.canceled + never, all.count);
    free(all.sleepers);
}
END_TEST

/* ---- a storm of posts, from handlers and threads ---- */

#define CALLS 8

/* A call, and how often somebody wanted it: what was wanted before a post is served after it. */
typedef struct errand {
    mtask_loop_call call;
    long wanted;
    long served;
    long runs;
} errand;

typedef struct storm {
    mtask_loop *loop;
    errand errands[CALLS];
    mtask_event begun;
    uint64_t seed;
    bool over;
    long signals;
} storm;

static storm the_storm;

static void serve(void *arg) {
    errand *one = (errand *)arg;
    WRITE(&one->served, READ(&one->wanted));
    one->runs++;
}

static void post_one(unsigned which) {
    errand *one = &the_storm.errands[which % CALLS];
    (void)__atomic_fetch_add(&one->wanted, 1, __ATOMIC_RELEASE);
    ck_assert_status(mtask_loop_post(the_storm.loop, &one->call), MTASK_OK);
}

static void on_storm(int number) {
    static unsigned turn;
    int saved = errno;
    (void)number;
    errno = 4711;
    post_one(ADD(&turn, 1));
    if (errno != 4711)
        abort();
    errno = saved;
    (void)ADD(&the_storm.signals, 1);
}

/* Signals the loop's thread, or posts itself. */
static void storm_thread(testing_member *self) {
    pthread_t target = *(pthread_t *)self->arg;
    testing_random random = testing_random_make(the_storm.seed, (unsigned)self->index);
    long rounds = testing_scale(40000);
    int64_t start = mtask_now();
    ck_assert_status(mtask_event_wait(&the_storm.begun, MTASK_FOREVER), MTASK_OK);
    for (long i = 0; i < rounds && testing_has_time(start); i++) {
        if (self->index == 0 && i % 4 == 0)
            testing_check(pthread_kill(target, SIGUSR1) == 0);
        else if (self->index != 0)
            post_one((unsigned)testing_below(&random, CALLS));
        testing_dawdle(&random, 512);
    }
}

/* Works, yields, sleeps, while handlers interrupt it anywhere. */
static void *in_the_storm(void *arg) {
    mtask_sem sem = {0};
    mtask_word turn = 0;
    while (!READ(&the_storm.over)) {
        if (turn++ % 4 == 0)
            ck_assert_status(mtask_sleep(MTASK_US(30)), MTASK_OK);
        ck_assert_status(mtask_sem_release(&sem, 1), MTASK_OK);
        ck_assert_status(mtask_sem_acquire(&sem, MTASK_FOREVER), MTASK_OK);
        take_turns();
    }
    return arg;
}

static bool all_served(void) {
    for (int i = 0; i < CALLS; i++)
        if (READ(&the_storm.errands[i].served) != READ(&the_storm.errands[i].wanted))
            return false;
    return true;
}

static void storm_joiner(testing_member *self) {
    testing_crowd_join((testing_crowd *)self->arg);
    WRITE(&the_storm.over, true);
}

static void *storm_main(void *arg) {
    mtask_future *workers[3];
    sigset_t late;
    sigemptyset(&late);
    sigaddset(&late, SIGUSR1);
    the_storm.loop = mtask_loop_current();
    mtask_event_set(&the_storm.begun);
    for (int i = 0; i < 3; i++)
        workers[i] = go(in_the_storm, NULL);
    for (int i = 0; i < 3; i++)
        (void)take(workers[i]);
    testing_check(pthread_sigmask(SIG_BLOCK, &late, NULL) == 0); /* one may still be on its way */
    while (!all_served())                                        /* if one was lost, for ever */
        ck_assert_status(mtask_sleep(MTASK_US(100)), MTASK_OK);
    return arg;
}

START_TEST(storm_of_posts) {
    testing_crowd crowd, joiner;
    pthread_t target = pthread_self();
    struct sigaction action = {0};
    action.sa_handler = on_storm;
    testing_check(sigaction(SIGUSR1, &action, NULL) == 0);
    the_storm.seed = testing_seed();
    for (int i = 0; i < CALLS; i++) {
        the_storm.errands[i].call.fn = serve;
        the_storm.errands[i].call.arg = &the_storm.errands[i];
    }
    testing_crowd_start(&crowd, 3, storm_thread, &target);
    testing_crowd_start(&joiner, 1, storm_joiner, &crowd);
    (void)in_loop(storm_main, NULL);
    testing_crowd_join(&joiner);
    testing_check(signal(SIGUSR1, SIG_IGN) != SIG_ERR);
    ck_assert_int_gt(the_storm.signals, 0);
}
END_TEST

/* ---- loops that begin and end while others use them ---- */

/* A loop's life: others may use it while `open`, and then they hold the lock. */
typedef struct harbour {
    mtask_rwlock lock;
    mtask_loop *loop; /* NULL: closed */
    mtask_loop_call calls[CALLS];
    long runs[CALLS];
    mtask_sem sem;
    mtask_word visits;
    bool over;
    long lives;
    long started;
    long ended;
} harbour;

#define HARBOURS 2

typedef struct coast {
    harbour harbours[HARBOURS];
    uint64_t seed;
} coast;

static void count_run(void *arg) {
    ++*(long *)arg;
}

/* A task that a stranger has started: does something, or waits for strangers. */
static void *visit(void *arg) {
    harbour *at = (harbour *)arg;
    mtask_word number = mtask_word_add(&at->visits, 1);
    (void)ADD(&at->started, 1);
    if (number % 3 == 0)
        (void)mtask_sem_acquire(&at->sem, MTASK_US(200));
    if (number % 3 == 1)
        (void)mtask_sleep(MTASK_US(50));
    (void)mtask_yield();
    (void)ADD(&at->ended, 1);
    return arg;
}

/* Calls that the loop of the last life had not called when it ended are called no more. */
static void renew_calls(harbour *at) {
    memset(at->calls, 0, sizeof at->calls);
    memset(at->runs, 0, sizeof at->runs);
    for (int i = 0; i < CALLS; i++) {
        at->calls[i].fn = count_run;
        at->calls[i].arg = &at->runs[i];
    }
}

static void *harbour_life(void *arg) {
    harbour *at = (harbour *)arg;
    renew_calls(at);
    ck_assert_status(mtask_loop_post(mtask_loop_current(), &at->calls[0]), MTASK_OK);
    ck_assert_status(mtask_rwlock_lock_write(&at->lock), MTASK_OK);
    at->loop = mtask_loop_current();
    ck_assert_status(mtask_rwlock_unlock_write(&at->lock), MTASK_OK);
    (void)mtask_sleep(MTASK_US(at->lives % 5 * 50));
    while (at->runs[0] == 0)
        take_turns();
    ck_assert_status(mtask_rwlock_lock_write(&at->lock), MTASK_OK);
    at->loop = NULL; /* nobody uses it from now on, but for futures */
    ck_assert_status(mtask_rwlock_unlock_write(&at->lock), MTASK_OK);
    return arg;
}

static void harbour_thread(testing_member *self) {
    harbour *at = &((coast *)self->arg)->harbours[self->index];
    int64_t start = mtask_now();
    for (at->lives = testing_scale(1500); at->lives > 0 && testing_has_time(start); at->lives--)
        testing_check(in_loop(harbour_life, at) == at);
    WRITE(&at->over, true);
}

/* What a stranger does with an open loop. */
static mtask_future *use_harbour(harbour *at, uint64_t what) {
    mtask_future *future = NULL;
    ck_assert_status(mtask_rwlock_lock_read(&at->lock), MTASK_OK);
    if (at->loop != NULL && what < CALLS / 2) {
        ck_assert_status(mtask_loop_post(at->loop, &at->calls[what]), MTASK_OK);
    } else if (at->loop != NULL) {
        mtask_status status = mtask_loop_go(at->loop, visit, at, &future);
        testing_check(status == MTASK_OK || status == MTASK_CLOSED);
    }
    ck_assert_status(mtask_rwlock_unlock_read(&at->lock), MTASK_OK);
    (void)mtask_sem_release(&at->sem, 1);
    return future;
}

static void stranger(coast *shared, unsigned index) {
    testing_random random = testing_random_make(shared->seed, index);
    harbour *at = &shared->harbours[index % HARBOURS];
    while (!READ(&at->over)) {
        uint64_t what = testing_below(&random, CALLS);
        mtask_future *future = use_harbour(at, what);
        if (future != NULL && what % 3 == 1)
            (void)mtask_future_cancel(future); /* its loop may have ended */
        if (future != NULL && what % 3 == 2)
            ck_assert_status(mtask_future_wait(future, MTASK_FOREVER), MTASK_OK);
        mtask_future_release(future);
        ck_assert_status(mtask_sleep(MTASK_US(testing_below(&random, 60))), MTASK_OK);
    }
}

static void stranger_thread(testing_member *self) {
    stranger((coast *)self->arg, (unsigned)self->index);
}

static void *stranger_task(void *arg) {
    testing_member *self = (testing_member *)arg;
    stranger((coast *)self->arg, (unsigned)self->index);
    return NULL;
}

static void stranger_loop(testing_member *self) {
    (void)in_loop(stranger_task, self);
}

START_TEST(loops_end_while_others_use_them) {
    coast shared = {.seed = testing_seed()};
    testing_crowd harbours, strangers;
    testing_crowd_start(&harbours, HARBOURS, harbour_thread, &shared);
    testing_crowd_start(&strangers, 2, stranger_thread, &shared);
    (void)testing_crowd_add(&strangers, stranger_loop, &shared);
    (void)testing_crowd_add(&strangers, stranger_loop, &shared);
    testing_crowd_join(&harbours);
    testing_crowd_join(&strangers);
    for (int i = 0; i < HARBOURS; i++)
        ck_assert_int_eq(shared.harbours[i].started, shared.harbours[i].ended);
}
END_TEST

/* ---- anything goes: tasks that start, cancel, join, group and limit each other ---- */

/* One loop, so nothing here needs to be atomic. */
typedef struct jungle {
    testing_random random;
    struct beast *beasts;
    long count; /* so many tasks in all */
    long next;
    long live; /* tasks in their function */
} jungle;

typedef struct beast {
    jungle *home;
    int depth;
    bool ran;
    bool done;
    bool failed;
} beast;

static void *beast_life(void *arg);

static uint64_t roll(jungle *home, uint64_t sides) {
    return testing_below(&home->random, sides);
}

/* A beast that has not lived yet; NULL if there are enough. */
static beast *beget(beast *parent) {
    jungle *home = parent->home;
    beast *child;
    if (home->next == home->count || parent->depth > 6 ||
        mtask_loop_pending(mtask_loop_current()) > 300)
        return NULL;
    child = &home->beasts[home->next++];
    child->home = home;
    child->depth = parent->depth + 1;
    return child;
}

/* Joins a child; what it learns must be so. */
static void join_child(beast *child, mtask_future *future, int64_t timeout) {
    mtask_outcome outcome;
    mtask_status status = mtask_future_get(future, &outcome, timeout);
    if (status == MTASK_OK)
        testing_check(child->done && !child->failed && outcome.value == child);
    else if (status == MTASK_FAILED)
        testing_check(child->done && child->failed && outcome.status == MTASK_BROKEN);
    else if (status == MTASK_CANCELED)
        testing_check(mtask_future_canceled(future) ? !child->ran : mtask_canceled());
    else
        ck_assert_status(status, MTASK_TIMEOUT);
    mtask_future_release(future);
}

static void have_child(beast *self) {
    beast *child = beget(self);
    uint64_t what = roll(self->home, 4);
    mtask_future *future;
    if (child == NULL)
        return;
    if (what == 0) {
        ck_assert_status(mtask_go(beast_life, child, NULL), MTASK_OK);
        return;
    }
    future = go(beast_life, child);
    if (roll(self->home, 2) == 0)
        (void)mtask_sleep(MTASK_US(roll(self->home, 60)));
    if (what == 1)
        (void)mtask_future_cancel(future);
    join_child(child, future, what == 3 ? MTASK_US(roll(self->home, 200)) : MTASK_FOREVER);
}

/* No group ends before its tasks. */
static void have_family(beast *self) {
    mtask_taskgroup group;
    mtask_outcome outcome;
    mtask_status status;
    beast *children[4] = {NULL};
    bool failed = false;
    ck_assert_status(mtask_taskgroup_begin(&group), MTASK_OK);
    for (size_t i = 0; i < 4 && (children[i] = beget(self)) != NULL; i++) {
        status = mtask_taskgroup_go(&group, beast_life, children[i], NULL);
        testing_check(status == MTASK_OK || status == MTASK_CANCELED);
        if (roll(self->home, 3) == 0)
            (void)mtask_sleep(MTASK_US(roll(self->home, 60)));
    }
    if (roll(self->home, 8) == 0)
        mtask_taskgroup_cancel(&group);
    status = mtask_taskgroup_end(&group, &outcome);
    for (size_t i = 0; i < 4 && children[i] != NULL; i++) {
        testing_check(children[i]->ran == children[i]->done);
        failed = failed || children[i]->failed;
    }
    if (status == MTASK_FAILED)
        testing_check(failed && outcome.status == MTASK_BROKEN);
    else
        testing_check(!failed && (status == MTASK_OK || status == MTASK_CANCELED));
}

static void have_limit(beast *self) {
    mtask_limit limit;
    mtask_status slept, ended;
    ck_assert_status(mtask_limit_begin(&limit, MTASK_US(roll(self->home, 100))), MTASK_OK);
    slept = mtask_sleep(MTASK_US(roll(self->home, 100)));
    ended = mtask_limit_end(&limit);
    testing_check(ended == MTASK_OK || ended == MTASK_TIMEOUT);
    if (slept == MTASK_OK)
        ck_assert_status(ended, MTASK_OK);
    else
        testing_check(ended == MTASK_TIMEOUT || mtask_canceled());
}

static void *limited(void *arg) {
    beast *self = (beast *)arg;
    have_limit(self);
    (void)mtask_sleep(MTASK_US(roll(self->home, 100)));
    return self;
}

static void live_a_moment(beast *self) {
    mtask_outcome outcome;
    mtask_status status;
    switch (roll(self->home, 8)) {
    case 0:
    case 1:
        (void)mtask_sleep(MTASK_US(roll(self->home, 100)));
        return;
    case 2:
        (void)mtask_yield();
        return;
    case 3:
        have_family(self);
        return;
    case 4:
        have_limit(self);
        return;
    case 5:
        status = mtask_with_timeout(MTASK_US(roll(self->home, 150)), limited, self, &outcome);
        testing_check(status == MTASK_OK || status == MTASK_TIMEOUT);
        testing_check(outcome.value == self);
        return;
    case 6:
        mtask_shield_begin();
        ck_assert_status(mtask_sleep(MTASK_US(roll(self->home, 50))), MTASK_OK);
        mtask_shield_end();
        return;
    default:
        have_child(self);
    }
}

static void *beast_life(void *arg) {
    beast *self = (beast *)arg;
    jungle *home = self->home;
    testing_check(!self->ran);
    self->ran = true;
    home->live++;
    for (uint64_t moments = 1 + roll(home, 6); moments > 0; moments--)
        live_a_moment(self);
    home->live--;
    self->done = true;
    self->failed = roll(home, 16) == 0;
    return self->failed ? mtask_fail(MTASK_BROKEN, "unlucky") : self;
}

/* What is left when this returns is cancelled by the end of the loop. */
static void *jungle_main(void *arg) {
    jungle *home = (jungle *)arg;
    beast self = {.home = home};
    while (home->next < home->count) {
        have_child(&self);
        have_family(&self);
        (void)mtask_sleep(MTASK_US(20));
    }
    return arg;
}

START_TEST(anything_goes) {
    jungle home = {.count = testing_scale(15000)};
    home.random = testing_random_make(testing_seed(), 0);
    home.beasts = (beast *)calloc((size_t)home.count, sizeof *home.beasts);
    testing_check(home.beasts != NULL);
    testing_check(in_loop(jungle_main, &home) == &home);
    ck_assert_int_eq(home.live, 0);
    for (long i = 0; i < home.count; i++)
        testing_check(home.beasts[i].ran == home.beasts[i].done);
    free(home.beasts);
}
END_TEST

/* ---- as_completed, fed by threads and by tasks ---- */

#define FEEDS 32

/* Two threads and two tasks end futures that one iterator waits for, while others look at the same
   futures. An iterator puts what has ended into a queue, under the lock of the future. */
typedef struct feed {
    mtask_future *futures[FEEDS];
    mtask_word round; /* 0: over */
    mtask_word fed;
} feed;

/* Ends its share of the futures of a round. */
static void feed_round(feed *all, int index) {
    for (int i = index; i < FEEDS; i += 4)
        ck_assert_status(mtask_future_set(all->futures[i], all), MTASK_OK);
    (void)mtask_word_add(&all->fed, 1);
}

static void feed_thread(testing_member *self) {
    feed *all = (feed *)self->arg;
    mtask_word seen = 1;
    for (;;) {
        mtask_word round = mtask_word_load(&all->round);
        if (round == 0)
            return;
        if (round != seen)
            feed_round(all, self->index);
        else
            sched_yield();
        seen = round;
    }
}

static void *feed_task(void *arg) {
    feed_round((feed *)arg, 2);
    return NULL;
}

static void *feed_task_too(void *arg) {
    feed_round((feed *)arg, 3);
    return NULL;
}

static void ignore(mtask_future *future, void *ctx) {
    (void)future;
    (void)mtask_word_add((mtask_word *)ctx, 1);
}

static void *look_on(void *arg) {
    feed *all = (feed *)arg;
    mtask_word told = 0;
    for (int i = 0; i < FEEDS; i += 3)
        ck_assert_status(mtask_future_then(all->futures[i], ignore, &told), MTASK_OK);
    ck_assert_status(mtask_futures_wait(all->futures, FEEDS, MTASK_WAIT_ALL, MTASK_FOREVER),
                     MTASK_OK);
    while (mtask_word_load(&told) < (FEEDS + 2) / 3)
        take_turns();
    return NULL;
}

static void complete_round(feed *all) {
    mtask_completed *completed;
    mtask_future *next;
    mtask_future *tasks[3];
    for (int i = 0; i < FEEDS; i++)
        ck_assert_status(mtask_future_create(&all->futures[i], NULL), MTASK_OK);
    ck_assert_status(mtask_as_completed(all->futures, FEEDS, &completed), MTASK_OK);
    mtask_word_store(&all->fed, 0);
    tasks[0] = go(look_on, all);
    tasks[1] = go(feed_task, all);
    tasks[2] = go(feed_task_too, all);
    (void)mtask_word_add(&all->round, 1);
    for (int i = 0; i < FEEDS; i++)
        ck_assert_status(mtask_completed_next(completed, &next, NULL, MTASK_FOREVER), MTASK_OK);
    ck_assert_status(mtask_completed_next(completed, &next, NULL, MTASK_FOREVER), MTASK_DONE);
    mtask_completed_close(completed);
    for (int i = 0; i < 3; i++)
        (void)take(tasks[i]);
    while (mtask_word_load(&all->fed) < 4)
        take_turns();
    for (int i = 0; i < FEEDS; i++)
        mtask_future_release(all->futures[i]);
}

static void *feed_main(void *arg) {
    feed *all = (feed *)arg;
    int64_t start = mtask_now();
    for (long round = testing_scale(3000); round > 0 && testing_has_time(start); round--)
        complete_round(all);
    mtask_word_store(&all->round, 0);
    return arg;
}

START_TEST(as_completed) {
    feed all = {.round = 1};
    testing_crowd crowd;
    testing_crowd_start(&crowd, 2, feed_thread, &all);
    (void)in_loop(feed_main, &all);
    testing_crowd_join(&crowd);
}
END_TEST

/* ---- a call that posts itself each time it is called ---- */

static long turns_made;
static mtask_loop_call each_turn;

static void post_again(void *arg) {
    (void)arg;
    turns_made++;
    ck_assert_status(mtask_loop_post(mtask_loop_current(), &each_turn), MTASK_OK);
}

static void *with_each_turn(void *arg) {
    memset(&each_turn, 0, sizeof each_turn);
    each_turn.fn = post_again;
    ck_assert_status(mtask_loop_post(mtask_loop_current(), &each_turn), MTASK_OK);
    while (turns_made < 100)
        ck_assert_status(mtask_sleep(MTASK_US(20)), MTASK_OK);
    return arg;
}

START_TEST(a_call_that_posts_itself_does_not_keep_the_loop) {
    (void)in_loop(with_each_turn, NULL);
    ck_assert_int_ge(turns_made, 100);
}
END_TEST

TESTING_MAIN("coro_stress", queue_of_one, queue_of_some, queue_of_many, mutex_and_rmutex, rwlock,
             semaphore, condition, barrier, events, objects_freed_by_the_task_that_waited,
             sleepers_are_cancelled, storm_of_posts, loops_end_while_others_use_them, anything_goes,
             as_completed, a_call_that_posts_itself_does_not_keep_the_loop)
