/* test_mtask_shared.c - everything between processes: MTASK_SHARED, and the robust lock

   Where the system cannot share (MTASK_FORCE_POSIX builds) the first test shows that every `_init`
   says so, and the others that need it do nothing; the robust lock is there all the same. */
#include "testing_threads.h"

#include <sys/mman.h>
#include <sys/wait.h>

#ifdef MTASK_FORCE_POSIX
enum { CAN_SHARE = 0 };
#else
enum { CAN_SHARE = 1 };
#endif

#if TESTING_TSAN
/* The robust lock is a pthread mutex. TSan would report, rather than let the lock answer, that the
   tests unlock what they do not hold; and it does not see the other processes. */
const char *__tsan_default_options(void);
const char *__tsan_default_options(void) {
    return "report_mutex_bugs=0:report_destroy_locked=0";
}
#endif

enum { ONCE_FLAGS = 2000 };

/* One of everything, in memory that the processes share. */
typedef struct world {
    mtask_mutex mutex;
    mtask_rmutex rmutex;
    mtask_cond cond;
    mtask_sem sem;
    mtask_event event;
    mtask_event reply;
    mtask_barrier barrier;
    mtask_rwlock rwlock;
    mtask_waitgroup group;
    mtask_once_flag once[ONCE_FLAGS];
    int runs[ONCE_FLAGS]; /* plain: `once` makes them visible */
    mtask_shared_mutex robust;
    long plain[2];   /* guarded by a lock, alike when nobody holds it */
    int counters[4]; /* atomic */
    long rounds;
    uint64_t seed;
    int64_t start;
} world;

static world *the_world; /* for a task function, which has one argument */

static void *share(size_t size) {
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    testing_check(memory != MAP_FAILED);
    return memory;
}

static void init_world(world *all) {
    ck_assert_status(mtask_mutex_init(&all->mutex, MTASK_SHARED), MTASK_OK);
    ck_assert_status(mtask_rmutex_init(&all->rmutex, MTASK_SHARED), MTASK_OK);
    ck_assert_status(mtask_cond_init(&all->cond, MTASK_SHARED), MTASK_OK);
    ck_assert_status(mtask_sem_init(&all->sem, 0, 0, MTASK_SHARED), MTASK_OK);
    ck_assert_status(mtask_event_init(&all->event, MTASK_SHARED), MTASK_OK);
    ck_assert_status(mtask_event_init(&all->reply, MTASK_SHARED), MTASK_OK);
    ck_assert_status(mtask_barrier_init(&all->barrier, 3, NULL, NULL, MTASK_SHARED), MTASK_OK);
    ck_assert_status(mtask_rwlock_init(&all->rwlock, MTASK_SHARED), MTASK_OK);
    ck_assert_status(mtask_waitgroup_init(&all->group, MTASK_SHARED), MTASK_OK);
    for (int i = 0; i < ONCE_FLAGS; i++)
        ck_assert_status(mtask_once_init(&all->once[i], MTASK_SHARED), MTASK_OK);
}

/* A fresh world; NULL where nothing can be shared. */
static world *make_world(void) {
    if (!CAN_SHARE)
        return NULL;
    the_world = (world *)share(sizeof(world));
    init_world(the_world);
    the_world->start = mtask_now();
    return the_world;
}

/* Starts a process that runs fn(all, index) and ends. */
static pid_t spawn(void (*fn)(world *all, int index), world *all, int index) {
    pid_t pid = fork();
    testing_check(pid >= 0);
    if (pid == 0) {
        fn(all, index);
        _exit(0);
    }
    return pid;
}

/* Waits for the end of a process; fails the test if something failed there. */
static void reap(pid_t pid) {
    int status = 0;
    testing_check(waitpid(pid, &status, 0) == pid);
    ck_assert_msg(status == 0, "a child ended with %#x", status);
}

static void slay(pid_t pid) {
    testing_check(kill(pid, SIGKILL) == 0);
    testing_check(waitpid(pid, NULL, 0) == pid);
}

static bool has_ended(pid_t pid) {
    siginfo_t info;
    info.si_pid = 0;
    testing_check(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0);
    return info.si_pid == pid;
}

/* Runs fn in three processes at once: two children and here. */
static void run_three(void (*fn)(world *all, int index), world *all) {
    pid_t first = spawn(fn, all, 1);
    pid_t second = spawn(fn, all, 2);
    fn(all, 0);
    reap(first);
    reap(second);
}

/* A process that is killed must be given the CPU to die: on a busy machine that takes its time. */
static bool has_patience(const world *all) {
    return mtask_now() - all->start < MTASK_SEC(6);
}

static int add(int *counter, int n) {
    return __atomic_add_fetch(counter, n, __ATOMIC_SEQ_CST);
}

static int get(const int *counter) {
    return __atomic_load_n(counter, __ATOMIC_SEQ_CST);
}

static int64_t random_timeout(testing_random *random) {
    uint64_t kind = testing_below(random, 8);
    if (kind == 0)
        return MTASK_NOWAIT;
    if (kind == 1)
        return MTASK_FOREVER;
    return (int64_t)testing_below(random, kind < 5 ? 5000 : 200000);
}

/* ---- what there is ---- */

START_TEST(every_init_can_share_or_says_that_it_is_unsupported) {
    mtask_status expected = CAN_SHARE ? MTASK_OK : MTASK_UNSUPPORTED;
    world *all = (world *)share(sizeof *all);
    ck_assert_status(mtask_mutex_init(&all->mutex, MTASK_SHARED), expected);
    ck_assert_status(mtask_mutex_init(&all->mutex, MTASK_SHARED | MTASK_CHECKED), expected);
    ck_assert_status(mtask_rmutex_init(&all->rmutex, MTASK_SHARED), expected);
    ck_assert_status(mtask_cond_init(&all->cond, MTASK_SHARED), expected);
    ck_assert_status(mtask_sem_init(&all->sem, 1, 1, MTASK_SHARED), expected);
    ck_assert_status(mtask_event_init(&all->event, MTASK_SHARED), expected);
    ck_assert_status(mtask_barrier_init(&all->barrier, 2, NULL, NULL, MTASK_SHARED), expected);
    ck_assert_status(mtask_rwlock_init(&all->rwlock, MTASK_SHARED), expected);
    ck_assert_status(mtask_once_init(&all->once[0], MTASK_SHARED), expected);
    ck_assert_status(mtask_waitgroup_init(&all->group, MTASK_SHARED), expected);
    ck_assert_status(mtask_word_wait(&all->mutex.word, 1, MTASK_MS(1), MTASK_SHARED), expected);
    ck_assert_status(mtask_shared_mutex_init(&all->robust), MTASK_OK);
    ck_assert_status(mtask_shared_mutex_deinit(&all->robust), MTASK_OK);
}
END_TEST

START_TEST(shared_objects_work_in_one_process_too) {
    world *all = make_world();
    uint32_t index = 7;
    if (all == NULL)
        return;
    ck_assert_status(mtask_mutex_lock(&all->mutex), MTASK_OK);
    ck_assert_status(mtask_mutex_lock_for(&all->mutex, MTASK_NOWAIT), MTASK_TIMEOUT);
    ck_assert_status(mtask_cond_wait(&all->cond, &all->mutex, MTASK_MS(1)), MTASK_TIMEOUT);
    ck_assert_status(mtask_mutex_unlock(&all->mutex), MTASK_OK);
    ck_assert_status(mtask_mutex_unlock(&all->mutex), MTASK_INVALID);
    ck_assert_status(mtask_cond_wait(&all->cond, &all->mutex, MTASK_FOREVER), MTASK_INVALID);
    ck_assert_status(mtask_sem_release(&all->sem, 2), MTASK_OK);
    ck_assert_uint_eq(mtask_sem_value(&all->sem), 2);
    mtask_event_set(&all->event);
    ck_assert_status(mtask_event_wait(&all->event, MTASK_FOREVER), MTASK_OK);
    ck_assert_status(mtask_rwlock_lock_write(&all->rwlock), MTASK_OK);
    ck_assert_status(mtask_rwlock_lock_read_for(&all->rwlock, MTASK_NOWAIT), MTASK_TIMEOUT);
    ck_assert_status(mtask_rwlock_unlock_write(&all->rwlock), MTASK_OK);
    ck_assert_status(mtask_barrier_init(&all->barrier, 1, NULL, NULL, MTASK_SHARED), MTASK_OK);
    ck_assert_status(mtask_barrier_wait(&all->barrier, &index, MTASK_FOREVER), MTASK_OK);
    ck_assert_uint_eq(index, 0);
}
END_TEST

/* The sleepers look again every 100 ms; nobody may notice. */
START_TEST(timeouts_longer_than_the_re_check_take_their_time) {
    world *all = make_world();
    int64_t start;
    if (all == NULL)
        return;
    start = mtask_now();
    ck_assert_status(mtask_sem_acquire(&all->sem, MTASK_MS(130)), MTASK_TIMEOUT);
    ck_assert_int_ge(mtask_now() - start, MTASK_MS(130));
    ck_assert_status(mtask_mutex_lock(&all->mutex), MTASK_OK);
    start = mtask_now();
    ck_assert_status(mtask_cond_wait(&all->cond, &all->mutex, MTASK_MS(130)), MTASK_TIMEOUT);
    ck_assert_int_ge(mtask_now() - start, MTASK_MS(130));
    start = mtask_now();
    ck_assert_status(mtask_barrier_wait(&all->barrier, NULL, MTASK_MS(130)), MTASK_TIMEOUT);
    ck_assert_int_ge(mtask_now() - start, MTASK_MS(130));
}
END_TEST

static void wait_for_event(world *all, int index) {
    (void)index;
    ck_assert_status(mtask_event_wait(&all->event, MTASK_FOREVER), MTASK_OK);
}

/* How often a sleeping process went to sleep so far. */
static long times_slept(pid_t pid) {
    long times = -1;
    while (times < 0) { /* just awake */
        testing_await_process_asleep(pid);
        times = testing_slept(pid, pid);
    }
    return times;
}

START_TEST(a_shared_wait_looks_again_no_more_than_ten_times_a_second) {
    world *all = make_world();
    pid_t pid;
    int64_t start;
    long before, times;
    if (all == NULL)
        return;
    pid = spawn(wait_for_event, all, 0);
    before = times_slept(pid);
    start = mtask_now();
    testing_pause(250);
    times = times_slept(pid) - before;
    ck_assert_int_gt(times, 0); /* it does look again, */
    ck_assert_int_le(times, 4 + (mtask_now() - start) / MTASK_MS(100));
    ck_assert(!has_ended(pid)); /* and goes on waiting */
    mtask_event_set(&all->event);
    reap(pid);
}
END_TEST

/* ---- each primitive ---- */

static void count_in_section(world *all, int index) {
    testing_random random = testing_random_make(all->seed, (unsigned)index);
    for (long i = 0; i < all->rounds && testing_has_time(all->start); i++) {
        mtask_status status = mtask_mutex_lock_for(&all->mutex, random_timeout(&random));
        if (status == MTASK_TIMEOUT)
            continue;
        ck_assert_status(status, MTASK_OK);
        testing_check(all->plain[0] == all->plain[1]);
        all->plain[0]++;
        if (testing_below(&random, 8) == 0)
            sched_yield();
        all->plain[1]++;
        add(&all->counters[0], 1);
        ck_assert_status(mtask_mutex_unlock(&all->mutex), MTASK_OK);
    }
}

START_TEST(mutex_excludes_processes) {
    world *all = make_world();
    if (all == NULL)
        return;
    all->rounds = testing_scale(30000);
    all->seed = testing_seed();
    run_three(count_in_section, all);
    ck_assert_int_eq(all->plain[0], all->counters[0]);
    ck_assert_int_eq(all->plain[1], all->counters[0]);
    ck_assert(!mtask_mutex_is_locked(&all->mutex));
}
END_TEST

/* Also the child of the fork is another process: it does not hold what its parent holds. */
static void be_a_stranger(world *all, int index) {
    (void)index;
    ck_assert_uint_eq(mtask_rmutex_count(&all->rmutex), 0);
    ck_assert_status(mtask_rmutex_unlock(&all->rmutex), MTASK_NOT_OWNER);
    ck_assert_status(mtask_rmutex_lock_for(&all->rmutex, MTASK_MS(1)), MTASK_TIMEOUT);
    mtask_event_set(&all->event);
    ck_assert_status(mtask_rmutex_lock(&all->rmutex), MTASK_OK);
    ck_assert_uint_eq(mtask_rmutex_count(&all->rmutex), 1);
    ck_assert_status(mtask_rmutex_lock(&all->rmutex), MTASK_OK);
    ck_assert_status(mtask_rmutex_unlock(&all->rmutex), MTASK_OK);
    ck_assert_status(mtask_rmutex_unlock(&all->rmutex), MTASK_OK);
}

START_TEST(rmutex_belongs_to_one_process) {
    world *all = make_world();
    pid_t pid;
    if (all == NULL)
        return;
    ck_assert_status(mtask_rmutex_lock(&all->rmutex), MTASK_OK);
    ck_assert_status(mtask_rmutex_lock(&all->rmutex), MTASK_OK);
    pid = spawn(be_a_stranger, all, 0);
    ck_assert_status(mtask_event_wait(&all->event, MTASK_FOREVER), MTASK_OK);
    testing_await_process_asleep(pid);
    ck_assert_uint_eq(mtask_rmutex_count(&all->rmutex), 2);
    ck_assert_status(mtask_rmutex_unlock(&all->rmutex), MTASK_OK);
    testing_await_process_asleep(pid);
    ck_assert_status(mtask_rmutex_unlock(&all->rmutex), MTASK_OK);
    reap(pid);
    ck_assert(!mtask_rmutex_is_locked(&all->rmutex));
}
END_TEST

/* Three processes pass a ball round. */
static void pass_ball(world *all, int index) {
    for (long i = 0; i < all->rounds; i++) {
        mtask_status status;
        ck_assert_status(mtask_mutex_lock(&all->mutex), MTASK_OK);
        MTASK_COND_WAIT_FOR(status, &all->cond, &all->mutex, MTASK_FOREVER,
                            all->plain[0] % 3 == index);
        ck_assert_status(status, MTASK_OK);
        all->plain[0]++;
        ck_assert_status(mtask_cond_notify_all(&all->cond), MTASK_OK);
        ck_assert_status(mtask_mutex_unlock(&all->mutex), MTASK_OK);
    }
}

START_TEST(condition_passes_a_ball_between_processes) {
    world *all = make_world();
    if (all == NULL)
        return;
    all->rounds = testing_scale(2000);
    run_three(pass_ball, all);
    ck_assert_int_eq(all->plain[0], 3 * all->rounds);
}
END_TEST

static void pass_ball_with_rmutex(world *all, int index) {
    for (long i = 0; i < all->rounds; i++) {
        ck_assert_status(mtask_rmutex_lock(&all->rmutex), MTASK_OK);
        ck_assert_status(mtask_rmutex_lock(&all->rmutex), MTASK_OK);
        while (all->plain[0] % 3 != index)
            ck_assert_status(mtask_cond_wait_rmutex(&all->cond, &all->rmutex, MTASK_FOREVER),
                             MTASK_OK);
        testing_check(mtask_rmutex_count(&all->rmutex) == 2);
        all->plain[0]++;
        ck_assert_status(mtask_cond_notify(&all->cond, 3), MTASK_OK);
        ck_assert_status(mtask_rmutex_unlock(&all->rmutex), MTASK_OK);
        ck_assert_status(mtask_rmutex_unlock(&all->rmutex), MTASK_OK);
    }
}

START_TEST(condition_passes_a_ball_between_processes_with_a_rmutex) {
    world *all = make_world();
    if (all == NULL)
        return;
    all->rounds = testing_scale(1000);
    run_three(pass_ball_with_rmutex, all);
    ck_assert_int_eq(all->plain[0], 3 * all->rounds);
}
END_TEST

static void use_seats(world *all, int index) {
    testing_random random = testing_random_make(all->seed, (unsigned)index);
    for (long i = 0; i < all->rounds && testing_has_time(all->start); i++) {
        mtask_status status = mtask_sem_acquire(&all->sem, random_timeout(&random));
        if (status == MTASK_TIMEOUT)
            continue;
        ck_assert_status(status, MTASK_OK);
        testing_check(add(&all->counters[0], 1) <= 2);
        if (testing_below(&random, 4) == 0)
            sched_yield();
        add(&all->counters[0], -1);
        ck_assert_status(mtask_sem_release(&all->sem, 1), MTASK_OK);
    }
}

START_TEST(semaphore_limits_processes) {
    world *all = make_world();
    if (all == NULL)
        return;
    ck_assert_status(mtask_sem_init(&all->sem, 2, 2, MTASK_SHARED), MTASK_OK);
    all->rounds = testing_scale(20000);
    all->seed = testing_seed();
    run_three(use_seats, all);
    ck_assert_uint_eq(mtask_sem_value(&all->sem), 2);
    ck_assert_status(mtask_sem_release(&all->sem, 1), MTASK_OVERFLOW);
}
END_TEST

static void answer(world *all, int index) {
    (void)index;
    for (long i = 0; i < all->rounds; i++) {
        ck_assert_status(mtask_event_wait(&all->event, MTASK_FOREVER), MTASK_OK);
        mtask_event_clear(&all->event);
        testing_check(all->plain[0] == i);
        all->plain[1] = i;
        mtask_event_set(&all->reply);
    }
}

START_TEST(event_is_seen_by_another_process_with_what_was_written_before) {
    world *all = make_world();
    pid_t pid;
    if (all == NULL)
        return;
    all->rounds = testing_scale(3000);
    pid = spawn(answer, all, 0);
    for (long i = 0; i < all->rounds; i++) {
        all->plain[0] = i;
        mtask_event_set(&all->event);
        ck_assert_status(mtask_event_wait(&all->reply, MTASK_FOREVER), MTASK_OK);
        mtask_event_clear(&all->reply);
        testing_check(all->plain[1] == i);
    }
    reap(pid);
}
END_TEST

START_TEST(event_set_then_clear_releases_the_processes_that_waited) {
    world *all = make_world();
    pid_t pids[3];
    if (all == NULL)
        return;
    for (int i = 0; i < 3; i++)
        pids[i] = spawn(wait_for_event, all, i);
    for (int i = 0; i < 3; i++)
        testing_await_process_asleep(pids[i]);
    mtask_event_set(&all->event);
    mtask_event_clear(&all->event);
    for (int i = 0; i < 3; i++)
        reap(pids[i]);
}
END_TEST

static void march(world *all, int index) {
    (void)index;
    for (int round = 0; round < all->rounds; round++) {
        uint32_t arrival = 7;
        add(&all->counters[0], 1);
        ck_assert_status(mtask_barrier_wait(&all->barrier, &arrival, MTASK_FOREVER), MTASK_OK);
        testing_check(arrival < 3);
        testing_check(get(&all->counters[0]) == 3 * (round + 1));
        add(&all->counters[1], (int)arrival);
        ck_assert_status(mtask_barrier_wait(&all->barrier, NULL, MTASK_FOREVER), MTASK_OK);
        testing_check(get(&all->counters[1]) == 3 * (round + 1)); /* 0 + 1 + 2 each time */
    }
}

START_TEST(barrier_keeps_processes_in_step) {
    world *all = make_world();
    if (all == NULL)
        return;
    all->rounds = testing_scale(600);
    run_three(march, all);
    ck_assert_uint_eq(mtask_barrier_waiting(&all->barrier), 0);
}
END_TEST

static void meet_once(world *all, int index) {
    (void)index;
    ck_assert_status(mtask_barrier_wait(&all->barrier, NULL, MTASK_FOREVER), MTASK_BROKEN);
}

START_TEST(barrier_breaks_and_is_reset_for_all_processes) {
    world *all = make_world();
    pid_t pid;
    if (all == NULL)
        return;
    pid = spawn(meet_once, all, 0);
    while (mtask_barrier_waiting(&all->barrier) == 0)
        testing_pause(1);
    ck_assert_status(mtask_barrier_wait(&all->barrier, NULL, MTASK_MS(2)), MTASK_TIMEOUT);
    reap(pid);
    ck_assert(mtask_barrier_is_broken(&all->barrier));
    pid = spawn(meet_once, all, 1);
    reap(pid);
    ck_assert_status(mtask_barrier_reset(&all->barrier), MTASK_OK);
    all->rounds = 2;
    run_three(march, all);
}
END_TEST

static void read_and_write(world *all, int index) {
    testing_random random = testing_random_make(all->seed, (unsigned)index);
    for (long i = 0; i < all->rounds && testing_has_time(all->start); i++) {
        int64_t timeout = random_timeout(&random);
        if (testing_below(&random, 3) == 0) {
            if (mtask_rwlock_lock_write_for(&all->rwlock, timeout) != MTASK_OK)
                continue;
            testing_check(add(&all->counters[0], 1) == 1 && get(&all->counters[1]) == 0);
            sched_yield();
            add(&all->counters[0], -1);
            ck_assert_status(mtask_rwlock_unlock_write(&all->rwlock), MTASK_OK);
        } else if (mtask_rwlock_lock_read_for(&all->rwlock, timeout) == MTASK_OK) {
            testing_check(add(&all->counters[1], 1) <= 3 && get(&all->counters[0]) == 0);
            add(&all->counters[1], -1);
            ck_assert_status(mtask_rwlock_unlock_read(&all->rwlock), MTASK_OK);
        }
    }
}

START_TEST(rwlock_keeps_reading_and_writing_processes_apart) {
    world *all = make_world();
    if (all == NULL)
        return;
    all->rounds = testing_scale(20000);
    all->seed = testing_seed();
    run_three(read_and_write, all);
    ck_assert_status(mtask_rwlock_lock_write_for(&all->rwlock, MTASK_NOWAIT), MTASK_OK);
}
END_TEST

static void *count_run(void *arg) {
    ++*(int *)arg;
    return the_world->plain[0]++ % 5 == 0 ? mtask_fail(MTASK_FAILED, "not yet") : NULL;
}

static void run_each_once(world *all, int index) {
    (void)index;
    for (long i = 0; i < all->rounds; i++) {
        while (mtask_once(&all->once[i], count_run, &all->runs[i]) != MTASK_OK)
            add(&all->counters[0], 1); /* it failed in this process */
        testing_check(all->runs[i] > 0);
    }
}

START_TEST(once_runs_in_one_of_the_processes) {
    world *all = make_world();
    int runs = 0;
    if (all == NULL)
        return;
    all->rounds = ONCE_FLAGS;
    run_three(run_each_once, all);
    for (int i = 0; i < ONCE_FLAGS; i++)
        runs += all->runs[i];
    ck_assert_int_eq(runs, ONCE_FLAGS + all->counters[0]);
}
END_TEST

static void work_and_say_done(world *all, int index) {
    testing_pause(index);
    all->runs[index] = 1;
    ck_assert_status(mtask_waitgroup_done(&all->group), MTASK_OK);
}

START_TEST(waitgroup_counts_processes_down) {
    world *all = make_world();
    pid_t pids[4];
    if (all == NULL)
        return;
    ck_assert_status(mtask_waitgroup_add(&all->group, 4), MTASK_OK);
    for (int i = 0; i < 4; i++)
        pids[i] = spawn(work_and_say_done, all, i);
    ck_assert_status(mtask_waitgroup_wait(&all->group, MTASK_FOREVER), MTASK_OK);
    for (int i = 0; i < 4; i++)
        ck_assert_int_eq(all->runs[i], 1);
    for (int i = 0; i < 4; i++)
        reap(pids[i]);
}
END_TEST

/* ---- a process is killed while it sleeps, or when it was just woken ---- */

/* How to wait and to wake. The killed process may have got what it was woken for before it died:
   then `mend` gives it back. */
typedef struct wait_kind {
    void (*prepare)(world *all);
    void (*wait)(world *all, int index);
    void (*wake)(world *all);
    void (*mend)(world *all);
} wait_kind;

/* Lets the calling process run on this CPU only when nobody else wants it: whoever wakes it, and
   then kills it, is most likely quicker. */
static void step_back(int cpu) {
    struct sched_param param;
    cpu_set_t cpus;
    memset(&param, 0, sizeof param);
    CPU_ZERO(&cpus);
    CPU_SET((unsigned)cpu, &cpus);
    (void)sched_setaffinity(0, sizeof cpus, &cpus); /* without it the test is only less sharp */
    (void)sched_setscheduler(0, SCHED_IDLE, &param);
}

/* Two processes sleep, the first is killed; the second must wake all the same. */
static void wake_and_kill(const wait_kind *kind, bool kill_first) {
    world *all = make_world();
    int cpu = sched_getcpu();
    cpu_set_t before, one;
    pid_t victim, other;
    CPU_ZERO(&one);
    CPU_SET((unsigned)cpu, &one);
    testing_check(sched_getaffinity(0, sizeof before, &before) == 0);
    kind->prepare(all);
    victim = fork();
    testing_check(victim >= 0);
    if (victim == 0) {
        step_back(cpu);
        kind->wait(all, 0);
        _exit(0);
    }
    testing_await_process_asleep(victim);
    other = spawn(kind->wait, all, 1);
    testing_await_process_asleep(other);
    (void)sched_setaffinity(0, sizeof one, &one);
    if (kill_first)
        slay(victim);
    kind->wake(all);
    if (!kill_first)
        slay(victim);
    (void)sched_setaffinity(0, sizeof before, &before);
    kind->mend(all);
    reap(other);
}

static void wake_and_kill_often(const wait_kind *kind) {
    for (int round = 0; CAN_SHARE && round < 6; round++)
        wake_and_kill(kind, round % 3 == 0);
}

static void do_nothing(world *all) {
    (void)all;
}

static void take_mutex(world *all) {
    ck_assert_status(mtask_mutex_lock(&all->mutex), MTASK_OK);
}

static void wait_for_mutex(world *all, int index) {
    (void)index;
    ck_assert_status(mtask_mutex_lock(&all->mutex), MTASK_OK);
    (void)mtask_mutex_unlock(&all->mutex); /* mend_mutex may have been quicker */
}

static void give_mutex(world *all) {
    ck_assert_status(mtask_mutex_unlock(&all->mutex), MTASK_OK);
}

static void mend_mutex(world *all) {
    if (mtask_mutex_is_locked(&all->mutex))
        (void)mtask_mutex_unlock(&all->mutex);
}

START_TEST(mutex_waiter_killed_does_not_stop_the_others) {
    static const wait_kind kind = {take_mutex, wait_for_mutex, give_mutex, mend_mutex};
    wake_and_kill_often(&kind);
}
END_TEST

static void wait_for_semaphore(world *all, int index) {
    (void)index;
    ck_assert_status(mtask_sem_acquire(&all->sem, MTASK_FOREVER), MTASK_OK);
}

static void give_semaphore(world *all) {
    ck_assert_status(mtask_sem_release(&all->sem, 1), MTASK_OK);
}

static void mend_semaphore(world *all) {
    if (mtask_sem_value(&all->sem) == 0)
        give_semaphore(all);
}

START_TEST(semaphore_waiter_killed_does_not_stop_the_others) {
    static const wait_kind kind = {do_nothing, wait_for_semaphore, give_semaphore, mend_semaphore};
    wake_and_kill_often(&kind);
}
END_TEST

static void set_event(world *all) {
    mtask_event_set(&all->event);
    mtask_event_clear(&all->event);
}

START_TEST(event_waiter_killed_does_not_stop_the_others) {
    static const wait_kind kind = {do_nothing, wait_for_event, set_event, do_nothing};
    wake_and_kill_often(&kind);
}
END_TEST

/* Goes on whatever happens to the mutex, which a killed process may hold for a moment. */
static void wait_for_notify(world *all, int index) {
    (void)index;
    for (bool over = false; !over;) {
        ck_assert_status(mtask_mutex_lock(&all->mutex), MTASK_OK);
        over = get(&all->counters[0]) != 0;
        if (!over)
            (void)mtask_cond_wait(&all->cond, &all->mutex, MTASK_FOREVER);
        (void)mtask_mutex_unlock(&all->mutex);
    }
}

static void notify_one(world *all) {
    ck_assert_status(mtask_mutex_lock(&all->mutex), MTASK_OK);
    add(&all->counters[0], 1);
    ck_assert_status(mtask_cond_notify(&all->cond, 1), MTASK_OK); /* perhaps the dying one */
    ck_assert_status(mtask_mutex_unlock(&all->mutex), MTASK_OK);
}

START_TEST(condition_waiter_killed_does_not_stop_the_others) {
    static const wait_kind kind = {do_nothing, wait_for_notify, notify_one, mend_mutex};
    wake_and_kill_often(&kind);
}
END_TEST

static void take_rwlock(world *all) {
    ck_assert_status(mtask_rwlock_lock_write(&all->rwlock), MTASK_OK);
}

static void give_rwlock(world *all) {
    ck_assert_status(mtask_rwlock_unlock_write(&all->rwlock), MTASK_OK);
}

static void wait_to_read(world *all, int index) {
    (void)index;
    ck_assert_status(mtask_rwlock_lock_read(&all->rwlock), MTASK_OK);
    (void)mtask_rwlock_unlock_read(&all->rwlock);
}

static void wait_to_write(world *all, int index) {
    (void)index;
    ck_assert_status(mtask_rwlock_lock_write(&all->rwlock), MTASK_OK);
    (void)mtask_rwlock_unlock_write(&all->rwlock); /* mend_rwlock may have been quicker */
}

static void wait_to_write_or_read(world *all, int index) {
    if (index == 0)
        wait_to_write(all, index);
    else
        wait_to_read(all, index);
}

static void mend_rwlock(world *all) {
    if ((mtask_word_load(&all->rwlock.word) & MTASK__RW_WRITE) != 0)
        (void)mtask_rwlock_unlock_write(&all->rwlock);
}

START_TEST(rwlock_reader_killed_does_not_stop_the_others) {
    static const wait_kind kind = {take_rwlock, wait_to_read, give_rwlock, do_nothing};
    wake_and_kill_often(&kind);
}
END_TEST

START_TEST(rwlock_writer_killed_does_not_stop_other_writers) {
    static const wait_kind kind = {take_rwlock, wait_to_write, give_rwlock, mend_rwlock};
    wake_and_kill_often(&kind);
}
END_TEST

START_TEST(rwlock_writer_killed_does_not_stop_readers) {
    static const wait_kind kind = {take_rwlock, wait_to_write_or_read, give_rwlock, mend_rwlock};
    wake_and_kill_often(&kind);
}
END_TEST

static void read_first(world *all) {
    ck_assert_status(mtask_rwlock_lock_read(&all->rwlock), MTASK_OK);
}

static void stop_reading(world *all) {
    ck_assert_status(mtask_rwlock_unlock_read(&all->rwlock), MTASK_OK);
}

START_TEST(rwlock_writer_killed_while_it_kept_readers_out_does_not_keep_them_out_for_ever) {
    static const wait_kind kind = {read_first, wait_to_write_or_read, stop_reading, mend_rwlock};
    wake_and_kill_often(&kind);
}
END_TEST

static void count_one(world *all) {
    ck_assert_status(mtask_waitgroup_add(&all->group, 1), MTASK_OK);
}

static void wait_for_group(world *all, int index) {
    (void)index;
    ck_assert_status(mtask_waitgroup_wait(&all->group, MTASK_FOREVER), MTASK_OK);
}

static void be_done(world *all) {
    ck_assert_status(mtask_waitgroup_done(&all->group), MTASK_OK);
}

START_TEST(waitgroup_waiter_killed_does_not_stop_the_others) {
    static const wait_kind kind = {count_one, wait_for_group, be_done, do_nothing};
    wake_and_kill_often(&kind);
}
END_TEST

static void wait_at_barrier(world *all, int index) {
    (void)index;
    ck_assert_status(mtask_barrier_wait(&all->barrier, NULL, MTASK_FOREVER), MTASK_OK);
}

static void arrive_last(world *all) {
    wait_at_barrier(all, 2); /* the killed one has arrived, too */
}

START_TEST(barrier_waiter_killed_does_not_stop_the_others) {
    static const wait_kind kind = {do_nothing, wait_at_barrier, arrive_last, do_nothing};
    wake_and_kill_often(&kind);
}
END_TEST

START_TEST(barrier_can_be_reset_after_a_waiter_was_killed) {
    world *all = make_world();
    pid_t victim;
    if (all == NULL)
        return;
    victim = spawn(wait_at_barrier, all, 0);
    testing_await_process_asleep(victim);
    slay(victim);
    ck_assert_status(mtask_barrier_wait(&all->barrier, NULL, MTASK_MS(5)), MTASK_TIMEOUT);
    ck_assert_status(mtask_barrier_reset(&all->barrier), MTASK_OK);
    all->rounds = 2;
    run_three(march, all);
}
END_TEST

static void *run_until_told(void *arg) {
    ck_assert_status(mtask_event_wait(&((world *)arg)->event, MTASK_FOREVER), MTASK_OK);
    return NULL;
}

static void run_once(world *all, int index) {
    (void)index;
    ck_assert_status(mtask_once(&all->once[0], run_until_told, all), MTASK_OK);
}

START_TEST(once_waiter_killed_does_not_stop_the_others) {
    world *all = make_world();
    pid_t pids[3];
    if (all == NULL)
        return;
    for (int i = 0; i < 3; i++) {
        pids[i] = spawn(run_once, all, i);
        testing_await_process_asleep(pids[i]);
    }
    slay(pids[1]);
    mtask_event_set(&all->event);
    reap(pids[0]);
    reap(pids[2]);
    ck_assert(mtask_once_is_done(&all->once[0]));
}
END_TEST

static void wait_in_storm(world *all, int index) {
    testing_random random = testing_random_make(all->seed, (unsigned)index);
    while (get(&all->counters[0]) == 0) {
        int64_t timeout = testing_below(&random, 2) == 0 ? MTASK_FOREVER : random_timeout(&random);
        mtask_status status = mtask_event_wait(&all->event, timeout);
        testing_check(status == MTASK_OK || status == MTASK_TIMEOUT);
    }
}

START_TEST(event_outlives_kills_at_random_moments) {
    world *all = make_world();
    testing_random random;
    pid_t pids[3];
    if (all == NULL)
        return;
    all->seed = testing_seed();
    random = testing_random_make(all->seed, 99);
    for (int i = 0; i < 3; i++)
        pids[i] = spawn(wait_in_storm, all, i);
    for (int round = 0; round < testing_scale(100) && has_patience(all); round++) {
        uint64_t which = testing_below(&random, 3);
        mtask_sleep((int64_t)testing_below(&random, MTASK_MS(3)));
        set_event(all);
        slay(pids[which]);
        pids[which] = spawn(wait_in_storm, all, round + 3);
    }
    add(&all->counters[0], 1);
    mtask_event_set(&all->event);
    for (int i = 0; i < 3; i++)
        reap(pids[i]);
}
END_TEST

/* ---- the robust lock ---- */

static world *make_robust(void) {
    world *all = (world *)share(sizeof *all);
    memset(&all->robust, 0xff, sizeof all->robust);
    ck_assert_status(mtask_shared_mutex_init(&all->robust), MTASK_OK);
    all->start = mtask_now();
    return all;
}

static void fail_to_lock(world *all, int index) {
    int64_t start = mtask_now();
    (void)index;
    ck_assert_status(mtask_shared_mutex_lock_for(&all->robust, MTASK_NOWAIT), MTASK_TIMEOUT);
    ck_assert_status(mtask_shared_mutex_lock_for(&all->robust, MTASK_MS(20)), MTASK_TIMEOUT);
    ck_assert_int_ge(mtask_now() - start, MTASK_MS(20));
    ck_assert_status(mtask_shared_mutex_unlock(&all->robust), MTASK_NOT_OWNER);
    ck_assert_status(mtask_shared_mutex_deinit(&all->robust), MTASK_INVALID);
}

START_TEST(robust_lock_is_held_by_one_process) {
    world *all = make_robust();
    ck_assert_status(mtask_shared_mutex_unlock(&all->robust), MTASK_NOT_OWNER);
    ck_assert_status(mtask_shared_mutex_lock(&all->robust), MTASK_OK);
    reap(spawn(fail_to_lock, all, 0));
    ck_assert_status(mtask_shared_mutex_unlock(&all->robust), MTASK_OK);
    ck_assert_status(mtask_shared_mutex_unlock(&all->robust), MTASK_NOT_OWNER);
    ck_assert_status(mtask_shared_mutex_deinit(&all->robust), MTASK_OK);
}
END_TEST

START_TEST(robust_lock_is_not_locked_twice_by_one) {
    world *all = make_robust();
    ck_assert_status(mtask_shared_mutex_lock_for(&all->robust, MTASK_NOWAIT), MTASK_OK);
    ck_assert_status(mtask_shared_mutex_lock(&all->robust), MTASK_DEADLOCK);
    ck_assert_status(mtask_shared_mutex_lock_for(&all->robust, MTASK_MS(5)), MTASK_DEADLOCK);
    ck_assert_status(mtask_shared_mutex_lock_for(&all->robust, MTASK_NOWAIT), MTASK_DEADLOCK);
    ck_assert_status(mtask_shared_mutex_deinit(&all->robust), MTASK_INVALID);
    ck_assert_status(mtask_shared_mutex_unlock(&all->robust), MTASK_OK);
    ck_assert_status(mtask_shared_mutex_unlock(&all->robust), MTASK_NOT_OWNER);
}
END_TEST

START_TEST(robust_lock_refuses_what_makes_no_sense) {
    world *all = make_robust();
    ck_assert_status(mtask_shared_mutex_lock_for(&all->robust, -1), MTASK_INVALID);
    ck_assert_status(mtask_shared_mutex_lock_for(&all->robust, INT64_MIN), MTASK_INVALID);
    ck_assert_status(mtask_shared_mutex_consistent(&all->robust), MTASK_INVALID);
    ck_assert_status(mtask_shared_mutex_lock_for(&all->robust, MTASK_FOREVER - 1), MTASK_OK);
    ck_assert_status(mtask_shared_mutex_consistent(&all->robust), MTASK_INVALID);
    ck_assert_status(mtask_shared_mutex_unlock(&all->robust), MTASK_OK);
}
END_TEST

static void lock_robust(world *all, int index) {
    mtask_status status = index == 0 ? mtask_shared_mutex_lock(&all->robust)
                                     : mtask_shared_mutex_lock_for(&all->robust, MTASK_SEC(1000));
    ck_assert_status(status, MTASK_OK);
    add(&all->counters[0], 1);
    ck_assert_status(mtask_shared_mutex_unlock(&all->robust), MTASK_OK);
}

START_TEST(robust_lock_wakes_the_processes_that_wait) {
    world *all = make_robust();
    pid_t pids[2];
    ck_assert_status(mtask_shared_mutex_lock(&all->robust), MTASK_OK);
    for (int i = 0; i < 2; i++)
        pids[i] = spawn(lock_robust, all, i);
    for (int i = 0; i < 2; i++)
        testing_await_process_asleep(pids[i]);
    ck_assert_int_eq(get(&all->counters[0]), 0);
    ck_assert_status(mtask_shared_mutex_unlock(&all->robust), MTASK_OK);
    for (int i = 0; i < 2; i++)
        reap(pids[i]);
    ck_assert_int_eq(get(&all->counters[0]), 2);
}
END_TEST

static void lock_and_sleep(world *all, int index) {
    (void)index;
    ck_assert_status(mtask_shared_mutex_lock(&all->robust), MTASK_OK);
    add(&all->counters[1], 1);
    for (;;)
        testing_pause(1000);
}

/* Kills a process that holds the lock. */
static void kill_owner(world *all) {
    pid_t pid;
    all->counters[1] = 0;
    pid = spawn(lock_and_sleep, all, 0);
    while (get(&all->counters[1]) == 0)
        testing_pause(1);
    slay(pid);
}

START_TEST(robust_lock_of_a_killed_owner_can_be_made_consistent) {
    world *all = make_robust();
    for (int way = 0; way < 3; way++) {
        const int64_t timeouts[] = {MTASK_NOWAIT, MTASK_MS(50), MTASK_FOREVER};
        kill_owner(all);
        ck_assert_status(mtask_shared_mutex_lock_for(&all->robust, timeouts[way]),
                         MTASK_OWNER_DEAD);
        ck_assert_status(mtask_shared_mutex_consistent(&all->robust), MTASK_OK);
        ck_assert_status(mtask_shared_mutex_consistent(&all->robust), MTASK_INVALID);
        ck_assert_status(mtask_shared_mutex_unlock(&all->robust), MTASK_OK);
        reap(spawn(lock_robust, all, 0)); /* it is as it was */
    }
}
END_TEST

static void find_it_broken(world *all, int index) {
    (void)index;
    ck_assert_status(mtask_shared_mutex_lock_for(&all->robust, MTASK_MS(50)), MTASK_BROKEN);
    ck_assert_status(mtask_shared_mutex_lock(&all->robust), MTASK_BROKEN);
    ck_assert_status(mtask_shared_mutex_unlock(&all->robust), MTASK_NOT_OWNER);
}

START_TEST(robust_lock_not_made_consistent_is_broken_for_all) {
    world *all = make_robust();
    kill_owner(all);
    ck_assert_status(mtask_shared_mutex_lock(&all->robust), MTASK_OWNER_DEAD);
    ck_assert_status(mtask_shared_mutex_unlock(&all->robust), MTASK_OK);
    ck_assert_status(mtask_shared_mutex_lock(&all->robust), MTASK_BROKEN);
    reap(spawn(find_it_broken, all, 0));
    ck_assert_status(mtask_shared_mutex_consistent(&all->robust), MTASK_INVALID);
    ck_assert_status(mtask_shared_mutex_deinit(&all->robust), MTASK_OK);
    ck_assert_status(mtask_shared_mutex_init(&all->robust), MTASK_OK); /* made anew */
    reap(spawn(lock_robust, all, 0));
}
END_TEST

START_TEST(robust_lock_that_is_broken_stays_so_after_a_try) {
    world *all = make_robust();
    kill_owner(all);
    ck_assert_status(mtask_shared_mutex_lock(&all->robust), MTASK_OWNER_DEAD);
    ck_assert_status(mtask_shared_mutex_unlock(&all->robust), MTASK_OK);
    for (int i = 0; i < 2; i++) {
        ck_assert_status(mtask_shared_mutex_lock_for(&all->robust, MTASK_NOWAIT), MTASK_BROKEN);
        reap(spawn(find_it_broken, all, 0));
        ck_assert_status(mtask_shared_mutex_lock(&all->robust), MTASK_BROKEN);
    }
}
END_TEST

static void inherit(world *all, int index) {
    (void)index;
    ck_assert_status(mtask_shared_mutex_lock(&all->robust), MTASK_OWNER_DEAD);
    ck_assert_status(mtask_shared_mutex_consistent(&all->robust), MTASK_OK);
    ck_assert_status(mtask_shared_mutex_unlock(&all->robust), MTASK_OK);
}

START_TEST(robust_lock_of_a_killed_owner_goes_to_one_that_sleeps_for_it) {
    world *all = make_robust();
    pid_t owner = spawn(lock_and_sleep, all, 0);
    pid_t heir;
    while (get(&all->counters[1]) == 0)
        testing_pause(1);
    heir = spawn(inherit, all, 0);
    testing_await_process_asleep(heir);
    slay(owner);
    reap(heir);
    ck_assert_status(mtask_shared_mutex_lock_for(&all->robust, MTASK_NOWAIT), MTASK_OK);
}
END_TEST

/* Changes two counters that are alike whenever the lock is free, and mends them after a death. */
static void change_both(world *all, int index) {
    (void)index;
    while (get(&all->counters[0]) == 0) {
        mtask_status status = mtask_shared_mutex_lock(&all->robust);
        if (status == MTASK_OWNER_DEAD) {
            add(&all->counters[2], 1);
            __atomic_store_n(&all->plain[1], all->plain[0], __ATOMIC_RELAXED);
            ck_assert_status(mtask_shared_mutex_consistent(&all->robust), MTASK_OK);
        } else {
            ck_assert_status(status, MTASK_OK);
            testing_check(all->plain[0] == all->plain[1]);
        }
        __atomic_fetch_add(&all->plain[0], 1, __ATOMIC_RELAXED); /* killed here, they differ */
        __atomic_fetch_add(&all->plain[1], 1, __ATOMIC_RELAXED);
        ck_assert_status(mtask_shared_mutex_unlock(&all->robust), MTASK_OK);
    }
}

START_TEST(robust_lock_outlives_200_kills_at_random_moments) {
    world *all = make_robust();
    testing_random random = testing_random_make(testing_seed(), 0);
    pid_t pids[3];
    mtask_status last;
    for (int i = 0; i < 3; i++)
        pids[i] = spawn(change_both, all, i);
    for (int round = 0; round < testing_scale(200) && has_patience(all); round++) {
        uint64_t which = testing_below(&random, 3);
        mtask_sleep((int64_t)testing_below(&random, MTASK_MS(2)));
        slay(pids[which]);
        pids[which] = spawn(change_both, all, 0);
    }
    add(&all->counters[0], 1);
    for (int i = 0; i < 3; i++)
        reap(pids[i]);
    ck_assert_int_gt(all->plain[0], 0);
    ck_assert_int_eq(all->plain[0], all->plain[1]);
    last = mtask_shared_mutex_lock_for(&all->robust, MTASK_NOWAIT);
    ck_assert(last == MTASK_OK || last == MTASK_OWNER_DEAD); /* the last one killed held it */
}
END_TEST

TESTING_MAIN(
    "shared", every_init_can_share_or_says_that_it_is_unsupported,
    shared_objects_work_in_one_process_too, timeouts_longer_than_the_re_check_take_their_time,
    a_shared_wait_looks_again_no_more_than_ten_times_a_second, mutex_excludes_processes,
    rmutex_belongs_to_one_process, condition_passes_a_ball_between_processes,
    condition_passes_a_ball_between_processes_with_a_rmutex, semaphore_limits_processes,
    event_is_seen_by_another_process_with_what_was_written_before,
    event_set_then_clear_releases_the_processes_that_waited, barrier_keeps_processes_in_step,
    barrier_breaks_and_is_reset_for_all_processes, rwlock_keeps_reading_and_writing_processes_apart,
    once_runs_in_one_of_the_processes, waitgroup_counts_processes_down,
    mutex_waiter_killed_does_not_stop_the_others, semaphore_waiter_killed_does_not_stop_the_others,
    event_waiter_killed_does_not_stop_the_others, condition_waiter_killed_does_not_stop_the_others,
    rwlock_reader_killed_does_not_stop_the_others, rwlock_writer_killed_does_not_stop_other_writers,
    rwlock_writer_killed_does_not_stop_readers,
    rwlock_writer_killed_while_it_kept_readers_out_does_not_keep_them_out_for_ever,
    waitgroup_waiter_killed_does_not_stop_the_others,
    barrier_waiter_killed_does_not_stop_the_others, barrier_can_be_reset_after_a_waiter_was_killed,
    once_waiter_killed_does_not_stop_the_others, event_outlives_kills_at_random_moments,
    robust_lock_is_held_by_one_process, robust_lock_is_not_locked_twice_by_one,
    robust_lock_refuses_what_makes_no_sense, robust_lock_wakes_the_processes_that_wait,
    robust_lock_of_a_killed_owner_can_be_made_consistent,
    robust_lock_not_made_consistent_is_broken_for_all,
    robust_lock_that_is_broken_stays_so_after_a_try,
    robust_lock_of_a_killed_owner_goes_to_one_that_sleeps_for_it,
    robust_lock_outlives_200_kills_at_random_moments)
