/* test_mtask_coro_stack.c - stacks of coroutines: guards, sizes, reuse, counts
   testing-ldflags: -Wl,--wrap=madvise */
#include "testing_coro.h"

#include <errno.h>
#include <limits.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>

#define WATCHED (TESTING_TSAN || TESTING_ASAN)

/* ---- helpers ---- */

static bool old_system; /* as before Linux 6.13: each guard is a mapping of its own */

int __real_madvise(void *memory, size_t size, int advice);
int __wrap_madvise(void *memory, size_t size, int advice);

int __wrap_madvise(void *memory, size_t size, int advice) {
    if (!old_system || advice != 102)
        return __real_madvise(memory, size, advice);
    errno = EINVAL;
    return -1;
}

/* Where a stack lies. A coroutine fills it in at its beginning. */
typedef struct place {
    mtask_coro *coro; /* near the top */
    char *low;        /* the lowest byte that it may use; above it all is its own */
    size_t left;      /* as mtask_coro_stack_left says */
} place;

static size_t page_size(void) {
    return (size_t)sysconf(_SC_PAGESIZE);
}

/* Writes down where it lies, and waits to be closed. */
static void *find_place(void *arg) {
    place *self = (place *)arg;
    char *here = (char *)__builtin_frame_address(0);
    self->left = mtask_coro_stack_left();
    /* the call that told it stood a little lower than `here`; stacks end at pages */
    self->low = here - self->left - (uintptr_t)(here - self->left) % page_size();
    self->coro = mtask_coro_current();
    (void)mtask_coro_yield(NULL, NULL);
    return NULL;
}

/* A coroutine with a stack of this size (0: the default) that has begun and told where it lies. */
static mtask_coro *open_place(place *at, size_t size) {
    mtask_coro_desc desc = {.fn = find_place, .arg = at, .stack_size = size};
    mtask_coro *coro = NULL;
    ck_assert_status(mtask_coro_create_ex(&coro, &desc), MTASK_OK);
    ck_assert_status(mtask_coro_resume(coro, NULL, NULL), MTASK_OK);
    ck_assert_ptr_eq(coro, at->coro);
    ck_assert(at->low < (char *)coro);
    return coro;
}

static void drop_coro(mtask_coro *coro) {
    ck_assert_status(mtask_coro_close(coro), MTASK_OK);
    end_coro(coro);
}

/* Whether the byte could be read. */
static bool is_readable(const char *byte) {
    static int pipes[2];
    char sink;
    if (pipes[1] == 0)
        testing_check(pipe(pipes) == 0);
    if (syscall(SYS_write, pipes[1], byte, (size_t)1) != 1) {
        testing_check(errno == EFAULT);
        return false;
    }
    testing_check(read(pipes[0], &sink, 1) == 1);
    return true;
}

/* Bytes of the guard below a stack; at most 64 KiB are looked at. */
static size_t guard_below(const place *at) {
    size_t size = 0;
    while (size < 65536 && !is_readable(at->low - size - 1))
        size += page_size();
    return size;
}

/* Fails the test unless the stack ends in a guard. */
static void check_guard(const place *at) {
    testing_check(is_readable(at->low));
    testing_check(!is_readable(at->low - 1));
}

typedef void (*child_fn)(void);

/* Runs fn in a child process; how that ended, as waitpid tells it. */
static int run_child(child_fn fn) {
    int status = 0;
    pid_t pid;
    fflush(NULL);
    pid = fork();
    if (pid == 0) {
        struct rlimit none = {0, 0};
        (void)setrlimit(RLIMIT_CORE, &none);
        signal(SIGALRM, SIG_DFL); /* Check's handler would kill the test as well */
        signal(SIGSEGV, SIG_DFL); /* the sanitizers' would tell of it and exit */
        alarm(60);
        fn();
        _exit(99);
    }
    testing_check(pid > 0);
    testing_check(waitpid(pid, &status, 0) == pid);
    return status;
}

/* Uses ever more stack. */
static long fall(long depth) {
    volatile char block[512];
    long result;
    block[0] = (char)depth;
    block[sizeof block - 1] = 1;
    result = depth > 0 ? fall(depth - 1) : 0;
    return result + block[0] + block[sizeof block - 1];
}

static void *fall_for_ever(void *arg) {
    (void)arg;
    return (void *)fall(LONG_MAX);
}

/* ---- guards ---- */

static void overflow_alone(void) {
    (void)mtask_coro_resume(open_coro(fall_for_ever, NULL), NULL, NULL);
}

START_TEST(an_overflow_ends_the_program_by_a_signal) {
    int status = run_child(overflow_alone);
    ck_assert(WIFSIGNALED(status));
    ck_assert_int_eq(WTERMSIG(status), SIGSEGV);
}
END_TEST

enum { NEIGHBOURS = 9, FALLING = 4 };
static place neighbours[NEIGHBOURS];
static long *shelves[NEIGHBOURS]; /* what lies on their stacks */

static void *fill_shelf(void *arg) {
    long shelf[256];
    place *self = (place *)arg;
    shelves[self - neighbours] = shelf;
    for (long i = 0; i < 256; i++)
        shelf[i] = i ^ (self - neighbours) ^ 0x5a5a5a;
    (void)find_place(self);
    return NULL;
}

/* Exits with 0 if the fault lies in the guard and no neighbour has changed. */
static void look_at_damage(int number, siginfo_t *info, void *context) {
    char *at = (char *)info->si_addr;
    char *low = neighbours[FALLING].low;
    (void)number, (void)context;
    if (at >= low || at < low - 65536)
        _exit(2);
    for (int n = 0; n < NEIGHBOURS; n++) {
        if (n == FALLING)
            continue;
        if (mtask_coro_status(neighbours[n].coro) != MTASK_CORO_SUSPENDED)
            _exit(3);
        for (long i = 0; i < 256; i++)
            if (shelves[n][i] != (i ^ n ^ 0x5a5a5a))
                _exit(4);
    }
    _exit(0);
}

static void *find_place_and_fall(void *arg) {
    (void)find_place(arg); /* it is resumed, and goes on */
    return fall_for_ever(NULL);
}

static void overflow_on_old_system(void) {
    old_system = true;
    overflow_alone();
}

START_TEST(an_overflow_is_caught_without_light_guards_too) {
    int status = run_child(overflow_on_old_system);
    ck_assert(WIFSIGNALED(status));
    ck_assert_int_eq(WTERMSIG(status), SIGSEGV);
}
END_TEST

static void overflow_among_neighbours(void) {
    static char space[65536];
    stack_t stack = {.ss_sp = space, .ss_size = sizeof space};
    struct sigaction action;
    mtask_coro *coros[NEIGHBOURS];
    for (int i = 0; i < NEIGHBOURS; i++) {
        coros[i] = open_coro(i == FALLING ? find_place_and_fall : fill_shelf, &neighbours[i]);
        ck_assert_status(mtask_coro_resume(coros[i], NULL, NULL), MTASK_OK);
    }
    memset(&action, 0, sizeof action);
    action.sa_sigaction = look_at_damage;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    testing_check(sigaltstack(&stack, NULL) == 0 && sigaction(SIGSEGV, &action, NULL) == 0);
    (void)mtask_coro_resume(coros[FALLING], NULL, NULL);
}

START_TEST(an_overflow_does_not_touch_the_neighbours) {
    int status = run_child(overflow_among_neighbours);
    ck_assert(WIFEXITED(status));
    ck_assert_int_eq(WEXITSTATUS(status), 0);
}
END_TEST

static int by_low(const void *a, const void *b) {
    const place *x = (const place *)a, *y = (const place *)b;
    return (x->low > y->low) - (x->low < y->low);
}

static void open_guarded_places(void) {
    enum { COUNT = TESTING_TSAN ? 60 : 400 };
    static const size_t sizes[] = {0, 65536, 16384, 1 << 20};
    static place places[COUNT];
    for (int i = 0; i < COUNT; i++)
        (void)open_place(&places[i], sizes[i % 4]);
    ck_assert_uint_eq(mtask_coro_stacks().unguarded, 0);
    qsort(places, COUNT, sizeof places[0], by_low);
    for (int i = 0; i < COUNT; i++) {
        check_guard(&places[i]);
        if (i > 0) /* what belongs to the lower one ends before the guard of this one */
            ck_assert((char *)places[i - 1].coro < places[i].low - page_size());
    }
    for (int i = 0; i < COUNT; i++)
        drop_coro(places[i].coro);
}

START_TEST(each_stack_has_a_guard_and_bytes_of_its_own) {
    open_guarded_places();
}
END_TEST

START_TEST(guards_that_are_mappings_do_as_well) {
    old_system = true;
    open_guarded_places();
}
END_TEST

START_TEST(a_stack_that_is_used_again_still_has_its_guard) {
    enum { COUNT = TESTING_TSAN ? 40 : 300 };
    static place places[COUNT];
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < COUNT; i++)
            (void)open_place(&places[i], 0);
        for (int i = 0; i < COUNT; i++) {
            check_guard(&places[i]);
            drop_coro(places[i].coro);
        }
    }
}
END_TEST

/* ---- sizes ---- */

START_TEST(outside_of_coroutines_the_stack_has_no_known_end) {
    ck_assert_uint_eq(mtask_coro_stack_left(), SIZE_MAX);
}
END_TEST

START_TEST(a_stack_has_256_KiB_by_default) {
    place at;
    mtask_coro *coro = open_place(&at, 0);
    ck_assert_uint_eq(MTASK_CORO_STACK, 262144);
    ck_assert_uint_le(at.left, 262144);
    ck_assert_uint_ge(at.left + guard_below(&at), 262144 - 8192);
    drop_coro(coro);
    ck_assert_uint_eq(mtask_coro_stack_left(), SIZE_MAX);
}
END_TEST

static size_t power_of_two(size_t least) {
    size_t power = 1;
    while (power < least)
        power *= 2;
    return power;
}

START_TEST(sizes_are_rounded_up_to_powers_of_two) {
    static const size_t sizes[] = {2048,  16384,   16385,   30000,   32768,
                                   65537, 1000000, 1 << 20, 1100000, 20000000};
    for (size_t i = WATCHED ? 5 : 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        place a, b;
        const place *upper;
        size_t whole, rounded, guard;
        (void)open_place(&a, sizes[i]);
        (void)open_place(&b, sizes[i]);
        upper = a.low > b.low ? &a : &b; /* below it there may be the other one, not a hole */
        guard = guard_below(upper);
        whole = (size_t)((char *)upper->coro - upper->low) + page_size();
        rounded = power_of_two(sizes[i]);
        ck_assert_uint_ge(whole + guard, rounded);
        if (rounded >= 4 * guard && rounded >= 16384)
            ck_assert_uint_le(whole, rounded + page_size());
        drop_coro(a.coro);
        drop_coro(b.coro);
    }
}
END_TEST

/* What is left here and in a function that it calls. */
typedef struct depths {
    size_t at_first, below, again;
    size_t inner; /* in a coroutine that it resumes */
    mtask_coro *nested;
} depths;

static __attribute__((noinline)) size_t left_below(void) {
    volatile char block[5000];
    size_t left;
    for (size_t i = 0; i < sizeof block; i++)
        block[i] = (char)i;
    left = mtask_coro_stack_left();
    return left + (size_t)block[0] - (size_t)block[256];
}

static void *tell_left(void *left) {
    *(size_t *)left = mtask_coro_stack_left();
    return NULL;
}

static void *look_around(void *arg) {
    depths *self = (depths *)arg;
    self->at_first = mtask_coro_stack_left();
    self->below = left_below();
    (void)resume_for(self->nested, 0, MTASK_DONE);
    self->again = mtask_coro_stack_left();
    return NULL;
}

START_TEST(what_is_left_of_a_stack_shrinks_with_the_depth_of_calls) {
    depths seen = {.at_first = 0};
    mtask_coro_desc small = {.fn = tell_left, .arg = &seen.inner, .stack_size = 65536};
    mtask_coro *coro = open_coro(look_around, &seen);
    ck_assert_status(mtask_coro_create_ex(&seen.nested, &small), MTASK_OK);
    (void)resume_for(coro, 0, MTASK_DONE);
    ck_assert_uint_gt(seen.at_first, 200000);
    ck_assert_uint_eq(seen.again, seen.at_first);
    if (!TESTING_ASAN) /* its large blocks may lie elsewhere */
        ck_assert_uint_le(seen.below + 5000, seen.at_first);
    ck_assert_uint_gt(seen.inner, 40000);
    ck_assert_uint_lt(seen.inner, 65536);
    end_coro(seen.nested);
    end_coro(coro);
}
END_TEST

START_TEST(what_is_left_of_memory_of_the_caller_is_known_too) {
    static char space[65536];
    size_t left = 0;
    mtask_coro_desc desc = {
        .fn = tell_left, .arg = &left, .stack = space, .stack_size = sizeof space};
    mtask_coro *coro;
    ck_assert_status(mtask_coro_create_ex(&coro, &desc), MTASK_OK);
    (void)resume_for(coro, 0, MTASK_DONE);
    ck_assert_uint_lt(left, sizeof space);
    ck_assert_uint_gt(left, sizeof space - 8192);
    end_coro(coro);
}
END_TEST

/* Falls so deep that all but 16 KiB of the stack are used, and comes up again. */
static void *use_nearly_all(void *arg) {
    size_t left = mtask_coro_stack_left();
    long depth = 0;
    (void)arg;
    while (left > 16384 + 640 * (size_t)(depth + 1))
        depth++;
    (void)fall(depth / 2);
    return (void *)depth;
}

START_TEST(large_stacks_can_be_used) {
    static const size_t sizes[] = {1 << 20, 1 << 25, 1 << 26};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0] && !WATCHED; i++) {
        mtask_coro_desc desc = {.fn = use_nearly_all, .stack_size = sizes[i]};
        mtask_coro *coro;
        ck_assert_status(mtask_coro_create_ex(&coro, &desc), MTASK_OK);
        ck_assert_int_gt(resume_for(coro, 0, MTASK_DONE), (long)sizes[i] / 1000);
        end_coro(coro);
    }
}
END_TEST

START_TEST(a_stack_of_a_gibibyte_takes_only_what_is_used) {
    place at;
    mtask_coro *coro;
    if (WATCHED || sizeof(void *) < 8)
        return;
    coro = open_place(&at, (size_t)1 << 30);
    ck_assert_uint_gt(at.left, ((size_t)1 << 30) - 65536 - 8192);
    check_guard(&at);
    drop_coro(coro);
}
END_TEST

/* Pages of a stack that are in memory. */
static size_t resident_pages(const place *at) {
    static unsigned char pages[1024];
    size_t page = page_size(), count = 0;
    char *end = (char *)((uintptr_t)at->coro / page * page + page);
    size_t n = (size_t)(end - at->low) / page;
    testing_check(n <= sizeof pages && mincore(at->low, n * page, pages) == 0);
    for (size_t i = 0; i < n; i++)
        count += pages[i] & 1;
    return count;
}

START_TEST(a_suspended_coroutine_keeps_two_pages_at_most) {
    enum { COUNT = 200 };
    static place places[COUNT];
    size_t page = page_size();
    if (WATCHED)
        return; /* they use more */
    for (int i = 0; i < COUNT; i++)
        (void)open_place(&places[i], 0);
    for (int i = 0; i < COUNT; i++) {
        ck_assert_uint_ge(resident_pages(&places[i]), 1);
        ck_assert_uint_le(resident_pages(&places[i]) * page, 2 * page);
        drop_coro(places[i].coro);
    }
}
END_TEST

/* ---- reuse ---- */

static mtask_coro *open_sized(size_t size) {
    mtask_coro_desc desc = {.fn = count_to, .stack_size = size};
    mtask_coro *coro;
    ck_assert_status(mtask_coro_create_ex(&coro, &desc), MTASK_OK);
    return coro;
}

START_TEST(the_stack_that_was_freed_last_is_used_first) {
    static const size_t sizes[] = {0, 65536, 1 << 20};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        mtask_coro *a = open_sized(sizes[i]), *b = open_sized(sizes[i]), *c = open_sized(sizes[i]);
        mtask_coro *d = open_sized(sizes[i]);
        end_coro(b);
        end_coro(d);
        end_coro(a);
        ck_assert_ptr_eq(open_sized(sizes[i]), a);
        ck_assert_ptr_eq(open_sized(sizes[i]), d);
        ck_assert_ptr_eq(open_sized(sizes[i]), b);
        end_coro(d);
        ck_assert_ptr_eq(open_sized(sizes[i]), d);
        end_coro(a);
        end_coro(b);
        end_coro(c);
        end_coro(d);
    }
}
END_TEST

START_TEST(stacks_are_counted) {
    mtask_coro_stack_info before = mtask_coro_stacks(), now;
    mtask_coro *coros[10];
    ck_assert_uint_eq(before.in_use, 0);
    for (size_t i = 0; i < 10; i++) {
        coros[i] = open_sized(i % 2 == 0 ? 0 : 65536);
        now = mtask_coro_stacks();
        ck_assert_uint_eq(now.in_use, i + 1);
        ck_assert_uint_eq(now.free, 0);
    }
    ck_assert_uint_ge(now.reserved, (size_t)5 * (MTASK_CORO_STACK + 65536));
    for (size_t i = 0; i < 10; i++) {
        end_coro(coros[i]);
        now = mtask_coro_stacks();
        ck_assert_uint_eq(now.in_use, 10 - (i + 1));
        ck_assert_uint_eq(now.free, i + 1);
    }
    end_coro(open_sized(0));
    ck_assert_uint_eq(mtask_coro_stacks().free, 10);
}
END_TEST

START_TEST(refused_coroutines_take_no_stack) {
    mtask_coro *coro;
    ck_assert_status(mtask_coro_create(&coro, NULL, NULL), MTASK_INVALID);
    ck_assert_uint_eq(mtask_coro_stacks().in_use, 0);
    ck_assert_uint_eq(mtask_coro_stacks().reserved, 0);
}
END_TEST

enum { HERD = TESTING_TSAN ? 40 : 600 };
static mtask_coro *herd[HERD];

/* Opens them all, runs each until it yields. */
static void open_herd(void) {
    for (long i = 0; i < HERD; i++) {
        herd[i] = open_coro(count_to, (void *)1);
        ck_assert_int_eq(resume_for(herd[i], 0, MTASK_OK), 1);
    }
}

static void drop_herd(void) {
    for (int i = 0; i < HERD; i++)
        drop_coro(herd[i]);
}

static void open_and_drop(testing_member *self) {
    (void)self;
    open_herd();
    drop_herd();
}

static void open_only(testing_member *self) {
    (void)self;
    open_herd();
}

static void drop_only(testing_member *self) {
    (void)self;
    drop_herd();
}

/* Runs fn on a thread of its own, and waits for its end. */
static void on_thread(void (*fn)(testing_member *self)) {
    testing_crowd crowd;
    testing_crowd_start(&crowd, 1, fn, NULL);
    testing_crowd_join(&crowd);
}

START_TEST(threads_that_end_leave_their_stacks_to_the_others) {
    size_t reserved = 0;
    for (int i = 0; i < (TESTING_TSAN ? 4 : 20); i++) {
        on_thread(open_and_drop);
        ck_assert_uint_eq(mtask_coro_stacks().in_use, 0);
        if (i == 0)
            reserved = mtask_coro_stacks().reserved;
        ck_assert_uint_eq(mtask_coro_stacks().reserved, reserved);
    }
    open_and_drop(NULL);
    ck_assert_uint_eq(mtask_coro_stacks().reserved, reserved);
}
END_TEST

START_TEST(stacks_may_be_freed_by_another_thread) {
    size_t reserved = 0;
    for (int i = 0; i < (TESTING_TSAN ? 4 : 20); i++) {
        on_thread(open_only);
        ck_assert_uint_eq(mtask_coro_stacks().in_use, HERD);
        if (i % 2 == 0)
            on_thread(drop_only);
        else
            drop_herd();
        ck_assert_uint_eq(mtask_coro_stacks().in_use, 0);
        if (i == 1) /* this thread keeps some from now on */
            reserved = mtask_coro_stacks().reserved;
        if (i > 1)
            ck_assert_uint_le(mtask_coro_stacks().reserved, 2 * reserved);
    }
}
END_TEST

static mtask_event enough;

static void open_drop_and_stay(testing_member *self) {
    open_and_drop(self);
    __atomic_store_n(&self->number, 1, __ATOMIC_RELEASE);
    ck_assert_status(mtask_event_wait(&enough, MTASK_FOREVER), MTASK_OK);
}

START_TEST(stacks_that_a_thread_kept_are_free_when_it_ends) {
    testing_crowd crowd;
    testing_crowd_start(&crowd, 1, open_drop_and_stay, NULL);
    while (__atomic_load_n(&crowd.members[0].number, __ATOMIC_ACQUIRE) == 0)
        testing_pause(1);
    mtask_event_set(&enough);
    testing_crowd_join(&crowd);
    ck_assert_uint_eq(mtask_coro_stacks().in_use, 0);
    ck_assert_uint_eq(mtask_coro_stacks().free, HERD);
}
END_TEST

/* Makes and ends coroutines at random, of random sizes. */
static void make_and_end(testing_member *self) {
    static const size_t sizes[] = {0, 65536, 131072, 0};
    testing_random random =
        testing_random_make((uint64_t)(uintptr_t)self->arg, (unsigned)self->index);
    mtask_coro *coros[32] = {NULL};
    for (long i = testing_scale(TESTING_TSAN ? 4000 : 20000); i > 0; i--) {
        mtask_coro **coro = &coros[testing_below(&random, 32)];
        if (*coro == NULL) {
            *coro = open_sized(sizes[testing_below(&random, 4)]);
            (void)resume_for(*coro, 0, MTASK_DONE);
        } else {
            end_coro(*coro);
            *coro = NULL;
        }
    }
    for (int i = 0; i < 32; i++)
        end_coro(coros[i]);
}

START_TEST(threads_take_and_give_stacks_at_once) {
    testing_crowd crowd;
    testing_crowd_start(&crowd, 4, make_and_end, (void *)(uintptr_t)testing_seed());
    testing_crowd_join(&crowd);
    ck_assert_uint_eq(mtask_coro_stacks().in_use, 0);
}
END_TEST

/* ---- more of them than the system has guards, or memory ---- */

/* Whether the rest of the program can still map memory, piece by piece. */
static bool can_still_map(void) {
    enum { PIECES = 1000 };
    size_t page = page_size();
    char *memory =
        (char *)mmap(NULL, 2 * PIECES * page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    bool all = memory != MAP_FAILED;
    for (size_t i = 0; i < PIECES && all; i++)
        all = mprotect(memory + 2 * i * page, page, PROT_NONE) == 0;
    if (memory != MAP_FAILED)
        testing_check(munmap(memory, 2 * PIECES * page) == 0);
    return all;
}

/* Suspends so many at once, looks around, and ends them. */
static void suspend_many(long count) {
    mtask_coro **coros = (mtask_coro **)calloc((size_t)count, sizeof *coros);
    mtask_coro_stack_info info;
    testing_check(coros != NULL);
    for (long i = 0; i < count; i++) {
        coros[i] = open_coro(count_to, (void *)(i + 1));
        ck_assert_int_eq(resume_for(coros[i], 0, MTASK_OK), 1);
    }
    info = mtask_coro_stacks();
    ck_assert_uint_eq(info.in_use, (size_t)count);
    ck_assert_uint_le(info.unguarded, (size_t)count);
    ck_assert(can_still_map());
    for (long i = 0; i < count; i++) {
        ck_assert_int_eq(resume_for(coros[i], 0, i == 0 ? MTASK_DONE : MTASK_OK), 2);
        drop_coro(coros[i]);
    }
    ck_assert_uint_eq(mtask_coro_stacks().in_use, 0);
    if (count > 5000) /* the system has most of their address space back */
        ck_assert_uint_lt(mtask_coro_stacks().reserved, info.reserved / 2);
    free(coros);
}

/* More than vm.max_map_count, which is 65,530 unless somebody has changed it. */
START_TEST(a_hundred_thousand_coroutines_are_suspended_at_once) {
    if (!WATCHED)
        suspend_many(testing_scale(100000));
}
END_TEST

/* How many mappings a process may have. */
static long mappings_allowed(void) {
    long most = LONG_MAX;
    FILE *file = fopen("/proc/sys/vm/max_map_count", "r");
    if (file != NULL) {
        testing_check(fscanf(file, "%ld", &most) == 1);
        fclose(file);
    }
    return most;
}

START_TEST(where_there_are_no_more_guards_stacks_go_without) {
    long count = testing_scale(40000);
    if (WATCHED)
        return;
    old_system = true;
    suspend_many(count);
    if (count > mappings_allowed() / 2) /* each guard makes two of one */
        ck_assert_uint_gt(mtask_coro_stacks().unguarded, 0);
}
END_TEST

/* Leaves the process about so much more address space. */
static void limit_memory(size_t more) {
    struct rlimit limit;
    unsigned long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    testing_check(file != NULL && fscanf(file, "%lu", &pages) == 1);
    fclose(file);
    testing_check(getrlimit(RLIMIT_AS, &limit) == 0);
    limit.rlim_cur = pages * page_size() + more;
    testing_check(setrlimit(RLIMIT_AS, &limit) == 0);
}

START_TEST(without_address_space_there_is_no_memory_but_what_was_freed) {
    enum { MOST = 1000 };
    static mtask_coro *coros[MOST];
    mtask_status status = MTASK_OK;
    int count = 0;
    if (WATCHED)
        return; /* they have much of it */
    limit_memory((size_t)28 << 20);
    while (count < MOST && status == MTASK_OK) {
        status = mtask_coro_create(&coros[count], count_to, (void *)2);
        count += status == MTASK_OK;
    }
    ck_assert_status(status, MTASK_NOMEM);
    ck_assert_int_ge(count, 90); /* 22 MiB of 28: not only in whole slabs */
    ck_assert_uint_eq(mtask_coro_stacks().in_use, (size_t)count);
    for (int i = 0; i < count; i++)
        ck_assert_int_eq(resume_for(coros[i], 0, MTASK_OK), 1);
    drop_coro(coros[7]);
    coros[7] = open_coro(count_to, (void *)1);
    ck_assert_status(mtask_coro_create(&coros[MOST - 1], count_to, NULL), MTASK_NOMEM);
    for (int i = 0; i < count; i++)
        drop_coro(coros[i]);
    ck_assert_uint_eq(mtask_coro_stacks().in_use, 0);
}
END_TEST

/* ---- fork ---- */

/* Forks in the middle of its function; yields what fork has returned. */
static void *fork_inside(void *arg) {
    long forked = (long)fork();
    long local = (long)arg;
    if (mtask_coro_yield((void *)forked, NULL) != MTASK_OK)
        return (void *)-1;
    return (void *)(local + 1);
}

/* 0 if coroutines work, those from before the fork included. */
static int use_coroutines(mtask_coro *old, mtask_coro *forked) {
    mtask_coro *fresh;
    void *item = NULL;
    if (mtask_coro_resume(old, NULL, &item) != MTASK_OK || item != (void *)2)
        return 1;
    if (mtask_coro_resume(forked, NULL, &item) != MTASK_DONE || item != (void *)6)
        return 2;
    if (mtask_coro_create(&fresh, count_to, (void *)1) != MTASK_OK ||
        mtask_coro_resume(fresh, NULL, &item) != MTASK_OK || item != (void *)1)
        return 3;
    if (mtask_coro_close(fresh) != MTASK_OK || mtask_coro_destroy(fresh) != MTASK_OK ||
        mtask_coro_destroy(forked) != MTASK_OK || mtask_coro_close(old) != MTASK_OK ||
        mtask_coro_destroy(old) != MTASK_OK)
        return 4;
    return mtask_coro_stacks().in_use == 0 ? 0 : 5;
}

START_TEST(a_coroutine_may_fork) {
    mtask_coro *old = open_coro(count_to, (void *)5), *forking = open_coro(fork_inside, (void *)5);
    int status = 0;
    void *item;
    ck_assert_int_eq(resume_for(old, 0, MTASK_OK), 1);
    fflush(NULL);
    ck_assert_status(mtask_coro_resume(forking, NULL, &item), MTASK_OK);
    if (item == NULL) /* the child */
        _exit(use_coroutines(old, forking));
    ck_assert_int_gt((long)item, 0);
    ck_assert_int_eq(use_coroutines(old, forking), 0);
    ck_assert_int_eq(waitpid((pid_t)(long)item, &status, 0), (long)item);
    ck_assert(WIFEXITED(status));
    ck_assert_int_eq(WEXITSTATUS(status), 0);
}
END_TEST

TESTING_MAIN("mtask_coro_stack", an_overflow_ends_the_program_by_a_signal,
             an_overflow_is_caught_without_light_guards_too,
             an_overflow_does_not_touch_the_neighbours, each_stack_has_a_guard_and_bytes_of_its_own,
             guards_that_are_mappings_do_as_well, a_stack_that_is_used_again_still_has_its_guard,
             outside_of_coroutines_the_stack_has_no_known_end, a_stack_has_256_KiB_by_default,
             sizes_are_rounded_up_to_powers_of_two,
             what_is_left_of_a_stack_shrinks_with_the_depth_of_calls,
             what_is_left_of_memory_of_the_caller_is_known_too, large_stacks_can_be_used,
             a_stack_of_a_gibibyte_takes_only_what_is_used,
             a_suspended_coroutine_keeps_two_pages_at_most,
             the_stack_that_was_freed_last_is_used_first, stacks_are_counted,
             refused_coroutines_take_no_stack, threads_that_end_leave_their_stacks_to_the_others,
             stacks_may_be_freed_by_another_thread, stacks_that_a_thread_kept_are_free_when_it_ends,
             threads_take_and_give_stacks_at_once,
             a_hundred_thousand_coroutines_are_suspended_at_once,
             where_there_are_no_more_guards_stacks_go_without,
             without_address_space_there_is_no_memory_but_what_was_freed, a_coroutine_may_fork)
