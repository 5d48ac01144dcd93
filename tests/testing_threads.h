/* testing_threads.h - crowds of threads, and ways to see what they do; for tests of what waits

   The threads are plain pthreads, so that a test of a lock stands on nothing but the lock. */
#ifndef MTASK_TESTING_THREADS_H
#define MTASK_TESTING_THREADS_H

#include "testing.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>

#define TESTING_CROWD_MAX 32

struct testing_crowd;

/* One thread of a crowd, and what a test wants to know of it. */
typedef struct testing_member {
    struct testing_crowd *crowd;
    void (*fn)(struct testing_member *self);
    void *arg;           /* what testing_crowd_start was given */
    int index;           /* 0 to count - 1 */
    mtask_status status; /* for the test: read it after the join */
    int64_t took;        /* for the test */
    long number;         /* for the test */
    pthread_t thread;
    int tid;       /* the system's number; 0 until it runs */
    bool finished; /* its function has returned */
} testing_member;

typedef struct testing_crowd {
    int count;
    testing_member members[TESTING_CROWD_MAX];
} testing_crowd;

/* Sleeps for so many milliseconds, whatever mtask thinks of time. */
static TESTING_UNUSED void testing_pause(long milliseconds) {
    struct timespec pause = {milliseconds / 1000, milliseconds % 1000 * 1000000};
    while (nanosleep(&pause, &pause) != 0) {
    }
}

/* How often the thread `tid` of process `pid` went to sleep so far; -1 if it is not asleep now. */
static TESTING_UNUSED long testing_slept(int pid, int tid) {
    char path[64], line[256];
    bool asleep = false;
    long times = -1;
    FILE *file;
    snprintf(path, sizeof path, "/proc/%d/task/%d/status", pid, tid);
    file = fopen(path, "r");
    if (file == NULL)
        return -1;
    while (fgets(line, sizeof line, file) != NULL) {
        asleep |= strncmp(line, "State:\tS", 8) == 0;
        if (strncmp(line, "voluntary_ctxt_switches:", 24) == 0)
            times = strtol(line + 24, NULL, 10);
    }
    fclose(file);
    return asleep ? times : -1;
}

/* Whether the thread sleeps and goes on sleeping: it waits for something, and not for a moment. */
static TESTING_UNUSED bool testing_is_asleep(int pid, int tid) {
    long before = testing_slept(pid, tid);
    if (before < 0)
        return false;
    testing_pause(2);
    return testing_slept(pid, tid) == before;
}

/* Returns when the main thread of process `pid` is asleep. */
static TESTING_UNUSED void testing_await_process_asleep(int pid) {
    while (!testing_is_asleep(pid, pid))
        testing_pause(1);
}

static TESTING_UNUSED void *testing_member_main(void *arg) {
    testing_member *self = (testing_member *)arg;
    __atomic_store_n(&self->tid, (int)syscall(SYS_gettid), __ATOMIC_RELEASE);
    self->fn(self);
    __atomic_store_n(&self->finished, true, __ATOMIC_RELEASE);
    return NULL;
}

/* Adds one thread that runs fn, with `arg`, to a crowd. */
static TESTING_UNUSED testing_member *
testing_crowd_add(testing_crowd *crowd, void (*fn)(testing_member *self), void *arg) {
    testing_member *member = &crowd->members[crowd->count];
    testing_check(crowd->count < TESTING_CROWD_MAX);
    memset(member, 0, sizeof *member);
    member->crowd = crowd;
    member->fn = fn;
    member->arg = arg;
    member->index = crowd->count++;
    testing_check(pthread_create(&member->thread, NULL, testing_member_main, member) == 0);
    return member;
}

/* Starts `count` threads that run fn. */
static TESTING_UNUSED void testing_crowd_start(testing_crowd *crowd, int count,
                                               void (*fn)(testing_member *self), void *arg) {
    crowd->count = 0;
    while (crowd->count < count)
        (void)testing_crowd_add(crowd, fn, arg);
}

static TESTING_UNUSED void testing_crowd_join(testing_crowd *crowd) {
    for (int i = 0; i < crowd->count; i++)
        testing_check(pthread_join(crowd->members[i].thread, NULL) == 0);
}

static TESTING_UNUSED bool testing_has_finished(const testing_member *member) {
    return __atomic_load_n(&member->finished, __ATOMIC_ACQUIRE);
}

/* How many have returned. */
static TESTING_UNUSED int testing_crowd_finished(const testing_crowd *crowd) {
    int finished = 0;
    for (int i = 0; i < crowd->count; i++)
        finished += testing_has_finished(&crowd->members[i]);
    return finished;
}

static TESTING_UNUSED void testing_await_finished(const testing_crowd *crowd, int count) {
    while (testing_crowd_finished(crowd) < count)
        testing_pause(1);
}

static TESTING_UNUSED bool testing_member_is_asleep(const testing_member *member) {
    int tid = __atomic_load_n(&member->tid, __ATOMIC_ACQUIRE);
    return tid != 0 && !testing_has_finished(member) && testing_is_asleep(getpid(), tid);
}

/* Returns when the member is asleep: in the wait that its function does. */
static TESTING_UNUSED void testing_await_asleep(const testing_member *member) {
    while (!testing_member_is_asleep(member))
        testing_pause(1);
}

/* Returns when at least `count` of the crowd are asleep. */
static TESTING_UNUSED void testing_crowd_await_asleep(const testing_crowd *crowd, int count) {
    for (int asleep = 0; asleep < count;) {
        asleep = 0;
        for (int i = 0; i < crowd->count; i++)
            asleep += testing_member_is_asleep(&crowd->members[i]);
    }
}

/* Returns when every member has finished or is asleep. */
static TESTING_UNUSED void testing_crowd_await_settled(const testing_crowd *crowd) {
    for (int settled = 0; settled < crowd->count;) {
        settled = 0;
        for (int i = 0; i < crowd->count; i++)
            settled += testing_has_finished(&crowd->members[i]) ||
                       testing_member_is_asleep(&crowd->members[i]);
    }
}

/* How many members ended with `status`. */
static TESTING_UNUSED int testing_crowd_count(const testing_crowd *crowd, mtask_status status) {
    int count = 0;
    for (int i = 0; i < crowd->count; i++)
        count += crowd->members[i].status == status;
    return count;
}

static TESTING_UNUSED int64_t testing_cpu_time(pthread_t thread) {
    clockid_t clock;
    struct timespec used;
    testing_check(pthread_getcpuclockid(thread, &clock) == 0);
    testing_check(clock_gettime(clock, &used) == 0);
    return MTASK_SEC(used.tv_sec) + used.tv_nsec;
}

/* Fails the test unless the sleeping member uses no CPU: neither does it spin, nor does it get up
   again and again to look. */
static TESTING_UNUSED void testing_check_idle(const testing_member *member) {
    int64_t used;
    long slept;
    testing_await_asleep(member);
    used = testing_cpu_time(member->thread);
    slept = testing_slept(getpid(), member->tid);
    testing_pause(60);
    ck_assert_int_le(testing_cpu_time(member->thread) - used, MTASK_MS(3));
    ck_assert_int_le(testing_slept(getpid(), member->tid) - slept, 2);
}

/* ---- time that a stress test may take ---- */

/* Whether a stress test that began at `start` should go on: not for more than a second or so. */
static TESTING_UNUSED bool testing_has_time(int64_t start) {
    return mtask_now() - start < MTASK_MS(800);
}

/* ---- two players and one object, which one of them frees as soon as it may ---- */

typedef bool (*testing_play_fn)(void *object, int player, testing_random *random);

typedef struct testing_game {
    size_t size;                /* of the object, which begins zeroed */
    void (*init)(void *object); /* NULL: zeroes will do */
    testing_play_fn play;       /* true, for just one player: free it */
    void *objects[2];           /* of this round and of the next; NULL: enough */
    uint32_t arrivals;          /* at the starting line, in all rounds */
    long rounds;
    int64_t start;
    uint64_t seed;
} testing_game;

/* Uses the CPU for a random number of turns below `limit`, or now and then leaves it to others. */
static TESTING_UNUSED void testing_dawdle(testing_random *random, uint64_t limit) {
    if (testing_below(random, 16) == 0)
        sched_yield();
    for (volatile uint64_t left = testing_below(random, limit); left > 0; left--) {
    }
}

/* Gives the player a CPU of its own, if there are two: side by side on one, they would only take
   turns. */
static TESTING_UNUSED void testing_game_spread(int player) {
    cpu_set_t all, one;
    if (sched_getaffinity(0, sizeof all, &all) != 0)
        return;
    for (unsigned cpu = 0; cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET(cpu, &all) && player-- == 0) {
            CPU_ZERO(&one);
            CPU_SET(cpu, &one);
            (void)sched_setaffinity(0, sizeof one, &one);
        }
}

/* Returns when both players have called it `round` times. */
static TESTING_UNUSED void testing_game_meet(testing_game *game, uint32_t round) {
    __atomic_fetch_add(&game->arrivals, 1, __ATOMIC_SEQ_CST);
    for (int turns = 0; __atomic_load_n(&game->arrivals, __ATOMIC_SEQ_CST) < 2 * round; turns++)
        if (turns > 200)
            sched_yield();
}

/* A fresh object for the round; NULL when there were enough. */
static TESTING_UNUSED void *testing_game_object(testing_game *game, long round) {
    void *object;
    /* the sanitizers see what happens here; without them it only must not hang */
    int64_t limit = TESTING_TSAN || TESTING_ASAN ? MTASK_MS(800) : MTASK_MS(300);
    if (round == game->rounds || mtask_now() - game->start > limit)
        return NULL;
    object = calloc(1, game->size);
    testing_check(object != NULL);
    if (game->init != NULL)
        game->init(object);
    return object;
}

static TESTING_UNUSED void testing_game_player(testing_member *self) {
    testing_game *game = (testing_game *)self->arg;
    testing_random random = testing_random_make(game->seed, (unsigned)self->index);
    testing_game_spread(self->index);
    for (long round = 0;; round++) {
        void **object = &game->objects[round & 1];
        void *mine;
        if (self->index == 0)
            *object = testing_game_object(game, round);
        testing_game_meet(game, (uint32_t)round + 1);
        mine = *object;
        if (mine == NULL)
            return;
        testing_dawdle(&random, testing_below(&random, 4) == 0 ? 4000 : 64);
        if (game->play(mine, self->index, &random))
            free(mine);
    }
}

/* Plays thousands of rounds: the other player may still be inside its last call on the object when
   it is freed. AddressSanitizer and ThreadSanitizer see whoever touches it then. */
static TESTING_UNUSED void testing_play(size_t size, void (*init)(void *object),
                                        testing_play_fn play) {
    testing_game game = {.size = size, .init = init, .play = play};
    testing_crowd crowd;
    game.rounds = testing_scale(30000);
    game.seed = testing_seed();
    game.start = mtask_now();
    testing_crowd_start(&crowd, 2, testing_game_player, &game);
    testing_crowd_join(&crowd);
}

/* ---- signals: a wait goes on when a handler has run ---- */

/* Interrupts the member's sleep a few times with SIGUSR1, whose handler is testing_on_signal. */
static TESTING_UNUSED void testing_interrupt(const testing_member *member) {
    for (int i = 0; i < 5; i++) {
        testing_await_asleep(member);
        testing_check(pthread_kill(member->thread, SIGUSR1) == 0);
    }
    testing_await_asleep(member);
}

static TESTING_UNUSED void testing_on_signal(int number) {
    (void)number;
}

/* Makes SIGUSR1 interrupt system calls and do nothing else. */
static TESTING_UNUSED void testing_catch_signals(void) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = testing_on_signal; /* no SA_RESTART: the sleeping call ends with EINTR */
    testing_check(sigaction(SIGUSR1, &action, NULL) == 0);
}

#endif /* MTASK_TESTING_THREADS_H */
