/* cc -std=c11 -O2 -pthread -I. tests/bench/bench_coro.c -o bench_coro -lm
   (better: tests/bench/run.sh coro, which builds the peers, writes the table and draws the chart)

   The coroutines and loops of mtask_coro.h against Boost.Context's fibers, swapcontext and Go's
   goroutines and channels. Boost and Go are programs of their own, peer_coro_NAME.*, with the same
   loops; so is peer_coro_ucontext, our own coroutines without assembly. Each side warms up in the
   same process before its measured run; but sleepers_100k, its bytes and million_parked begin in a
   fresh process on either side, which for ours is this program, called as `PROGRAM alone FIGURE`.

   Figures on one thread are CPU time, so that other programs count for less: of the thread, and for
   Go, which runs on one of its processors then, of the process. thread_to_coro is elapsed time; its
   threads are not bound to CPUs.

   A Boost fiber hands no values over, its stacks have no guard and, as it does by itself, come from
   malloc; ours hand a value over either way, and create_run_destroy makes a guarded stack.

   THE LIMITS. `pop+jmp`: two switches that keep six registers and end in a jump, without any
   function around them or values: what switching and create_run_destroy can come down to where the
   compiler does not see both sides. `+ 2 RMWs` adds what a future costs at least, which anybody may
   look at or release: one atomic read-modify-write when the task ends and one by the reader; `+ 4
   RMWs` one for each put and get of a queue that any thread may use. `in a ring` are such switches
   through as many stacks as yield_round has, whose tops lie on as many pages: the least that the
   caches allow. `setjmp` switches by setjmp and longjmp, and nothing else. `touched pages` writes to
   one new page for each task, which then belongs to its stack. `two words`: two threads that sleep
   and wake each other by a word, without a queue or a loop. */

#define MTASK_IMPLEMENTATION
#include "mtask_coro.h"
#include "mtask_queue.h"

#include "bench.h"
#include "turns.h"

#include <setjmp.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <ucontext.h>

/* ---- what can go wrong ---- */

static void must(mtask_status status, const char *what) {
    if (status == MTASK_OK)
        return;
    fprintf(stderr, "benchmark: %s: %s\n", what, mtask_strerror(status));
    exit(1);
}

static void expect(bool holds, const char *what) {
    must(holds ? MTASK_OK : MTASK_FAILED, what);
}

/* ---- coroutines ---- */

#define SWITCHES  40000000
#define CREATIONS 6000000

static void *answer(void *in) {
    while (mtask_coro_yield(in, &in) == MTASK_OK)
        ;
    return NULL;
}

static double switch_pairs(intptr_t times) {
    mtask_coro *coro;
    void *out;
    must(mtask_coro_create(&coro, answer, NULL), "create");
    must(mtask_coro_resume(coro, NULL, NULL), "resume");
    double start = bench_cpu_ns();
    for (intptr_t i = 0; i < times; i++) {
        must(mtask_coro_resume(coro, (void *)i, &out), "resume");
        expect(out == (void *)i, "another value came back");
    }
    double lasted = bench_cpu_ns() - start;
    must(mtask_coro_close(coro), "close");
    must(mtask_coro_destroy(coro), "destroy");
    return lasted / (double)times;
}

static double switch_pair(void) {
    switch_pairs(SWITCHES / 4);
    return switch_pairs(SWITCHES);
}

static void *nothing(void *arg) {
    return arg;
}

static double creations(int times) {
    double start = bench_cpu_ns();
    for (int i = 0; i < times; i++) {
        mtask_coro *coro;
        must(mtask_coro_create(&coro, nothing, NULL), "create");
        expect(mtask_coro_resume(coro, NULL, NULL) == MTASK_DONE, "resume");
        must(mtask_coro_destroy(coro), "destroy");
    }
    return (bench_cpu_ns() - start) / times;
}

static double create_run_destroy(void) {
    creations(CREATIONS / 4);
    return creations(CREATIONS);
}

/* ---- a program on a loop ---- */

/* A loop that runs some tasks, how often, and what came out. */
typedef struct work {
    int times;
    double figure;
} work;

static double on_loop(mtask_fn program, int times) {
    work what = {.times = times};
    must(mtask_loop_run(program, &what, NULL), "loop");
    return what.figure;
}

/* The figure of a run after one, a quarter as long, to warm up. */
static double on_warm_loop(mtask_fn program, int times) {
    on_loop(program, times / 4);
    return on_loop(program, times);
}

#define SPAWNS 3000000

static void *spawn_join_program(void *arg) {
    work *self = arg;
    double start = bench_cpu_ns();
    for (int i = 0; i < self->times; i++) {
        mtask_future *future;
        mtask_outcome outcome;
        must(mtask_go(nothing, self, &future), "go");
        must(mtask_future_get(future, &outcome, MTASK_FOREVER), "get");
        expect(outcome.value == self, "another value came back");
        mtask_future_release(future);
    }
    self->figure = (bench_cpu_ns() - start) / self->times;
    return NULL;
}

static double spawn_join(void) {
    return on_warm_loop(spawn_join_program, SPAWNS);
}

#define PINGPONGS 2000000

MTASK_QUEUE_TYPE(words, uint64_t);

static words there, back;

static void open_queues(void) {
    must(words_init(&there, 1), "queue");
    must(words_init(&back, 1), "queue");
}

static void close_queues(void) {
    must(words_deinit(&there), "deinit");
    must(words_deinit(&back), "deinit");
}

static void *send_back(void *arg) {
    uint64_t item;
    while (words_get(&there, &item, MTASK_FOREVER) == MTASK_OK)
        must(words_put(&back, item, MTASK_FOREVER), "put");
    return arg;
}

static void ask(int times) {
    for (uint64_t i = 0; i < (uint64_t)times; i++) {
        uint64_t item;
        must(words_put(&there, i, MTASK_FOREVER), "put");
        must(words_get(&back, &item, MTASK_FOREVER), "get");
        expect(item == i, "another item came back");
    }
}

static void *pingpong_program(void *arg) {
    work *self = arg;
    mtask_future *other;
    open_queues();
    must(mtask_go(send_back, NULL, &other), "go");
    double start = bench_cpu_ns();
    ask(self->times);
    self->figure = (bench_cpu_ns() - start) / self->times;
    must(words_close(&there), "close");
    must(mtask_future_get(other, NULL, MTASK_FOREVER), "get");
    mtask_future_release(other);
    close_queues();
    return NULL;
}

static double chan_pingpong(void) {
    return on_warm_loop(pingpong_program, PINGPONGS);
}

#define YIELD_TASKS 1000
#define YIELDS      12000

/* So many tasks have not done yet what their program waits for. */
static mtask_waitgroup pending;

static void *yield_task(void *arg) {
    const work *program = arg;
    for (int i = 0; i < program->times; i++)
        must(mtask_yield(), "yield");
    must(mtask_waitgroup_done(&pending), "done");
    return NULL;
}

static void go_all(mtask_fn fn, void *arg, int tasks) {
    must(mtask_waitgroup_add(&pending, tasks), "add");
    for (int i = 0; i < tasks; i++)
        must(mtask_go(fn, arg, NULL), "go");
}

static void await_all(void) {
    must(mtask_waitgroup_wait(&pending, MTASK_FOREVER), "wait");
}

static void *yield_program(void *arg) {
    work *self = arg;
    double start = bench_cpu_ns();
    go_all(yield_task, self, YIELD_TASKS);
    await_all();
    self->figure = (bench_cpu_ns() - start) / self->times / YIELD_TASKS;
    return NULL;
}

static double yield_round(void) {
    return on_warm_loop(yield_program, YIELDS);
}

/* ---- very many tasks: in a process of their own ---- */

#define SLEEPERS      100000
#define PARKED        1000000
#define ONE_SLEEP     MTASK_SEC(1)
#define SLEEP_SETTLED MTASK_MS(500)

/* Bytes of memory that the process has now. */
static double resident(void) {
    long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (file == NULL || fscanf(file, "%*s %ld", &pages) != 1)
        return (double)NAN;
    fclose(file);
    return (double)pages * (double)sysconf(_SC_PAGESIZE);
}

static void *sleep_task(void *arg) {
    must(mtask_sleep(ONE_SLEEP), "sleep");
    must(mtask_waitgroup_done(&pending), "done");
    return arg;
}

static void *sleep_program(void *arg) {
    work *self = arg;
    double start = bench_cpu_ns();
    go_all(sleep_task, NULL, SLEEPERS);
    await_all();
    self->figure = (bench_cpu_ns() - start) / 1e9;
    return NULL;
}

static void *sleep_bytes_program(void *arg) {
    work *self = arg;
    double before = resident();
    go_all(sleep_task, NULL, SLEEPERS);
    must(mtask_sleep(SLEEP_SETTLED), "sleep");
    self->figure = (resident() - before) / SLEEPERS;
    await_all();
    return NULL;
}

static mtask_event gate;
static int parked;

static void *parked_task(void *arg) {
    parked++;
    must(mtask_event_wait(&gate, MTASK_FOREVER), "wait");
    must(mtask_waitgroup_done(&pending), "done");
    return arg;
}

static void *parked_program(void *arg) {
    work *self = arg;
    double before = resident();
    go_all(parked_task, NULL, PARKED);
    while (parked < PARKED)
        must(mtask_yield(), "yield");
    self->figure = (resident() - before) / PARKED;
    mtask_event_set(&gate);
    await_all();
    return NULL;
}

static const struct {
    const char *figure;
    mtask_fn program;
} alone[] = {
    {"sleepers_100k", sleep_program},
    {"sleepers_100k_bytes", sleep_bytes_program},
    {"million_parked", parked_program},
};

static int run_alone(const char *figure) {
    for (size_t i = 0; i < BENCH_LENGTH(alone); i++) {
        if (strcmp(alone[i].figure, figure) != 0)
            continue;
        printf("%.6f\n", on_loop(alone[i].program, 1));
        return 0;
    }
    fprintf(stderr, "bench_coro: no figure '%s'\n", figure);
    return 2;
}

/* ---- from a thread to a task on another thread ---- */

#define ROUNDTRIPS 20000

static void *loop_thread(void *arg) {
    must(mtask_loop_run(send_back, NULL, NULL), "loop");
    return arg;
}

static double thread_to_coro(void) {
    mtask_thread thread = {0};
    open_queues();
    must(mtask_thread_start(&thread, loop_thread, NULL), "thread");
    ask(ROUNDTRIPS / 4);
    double start = bench_now_ns();
    ask(ROUNDTRIPS);
    double lasted = bench_now_ns() - start;
    must(words_close(&there), "close");
    must(mtask_thread_join(&thread, NULL, MTASK_FOREVER), "join");
    close_queues();
    return lasted / ROUNDTRIPS / 2 / 1000;
}

static double two_words(void) {
    return turns(true) / 2;
}
static double two_transfers(void) {
    return mtask_cpu_count() > 1 ? turns(false) / 2 : (double)NAN;
}

/* ---- what the machine allows: switches ---- */

#define RAW_SWITCHES 20000000
#define RAW_STACK    16384

static unsigned char raw_stack[RAW_STACK] __attribute__((aligned(64)));

#if defined(__x86_64__) && defined(__LP64__)

/* raw_jump saves what a function must keep, stores the stack pointer to *from and goes on with `to`;
   raw_return does the same, but ends in `ret`, which the processor predicts wrongly each time. */
void raw_jump(void **from, void *to);
void raw_return(void **from, void *to);
# define RAW_EXCHANGE                                                                              \
  "push %rbp\n push %rbx\n push %r12\n push %r13\n push %r14\n push %r15\n"                        \
  "mov %rsp, (%rdi)\n mov %rsi, %rsp\n"                                                            \
  "pop %r15\n pop %r14\n pop %r13\n pop %r12\n pop %rbx\n pop %rbp\n"
__asm__(".pushsection .text\n"
        ".p2align 4\n raw_jump:\n" RAW_EXCHANGE "pop %rcx\n jmp *%rcx\n"
        ".p2align 4\n raw_return:\n" RAW_EXCHANGE "ret\n"
        ".popsection\n");

static void *raw_main, *raw_other;

static void raw_jumping(void) {
    for (;;)
        raw_jump(&raw_other, raw_main);
}

static void raw_returning(void) {
    for (;;)
        raw_return(&raw_other, raw_main);
}

/* A stack, whose top is given, on which `body` has not begun: six registers and where it begins,
   and room so that it is aligned there as after a call. */
static void *raw_prepare(unsigned char *top, void (*body)(void)) {
    void **at = (void **)(void *)top - 8;
    memset(at, 0, 8 * sizeof *at);
    memcpy(&at[6], &body, sizeof body);
    return at;
}

static double raw_pair(void (*exchange)(void **from, void *to), void (*body)(void)) {
    raw_other = raw_prepare(raw_stack + RAW_STACK - 64, body);
    double start = bench_cpu_ns();
    for (int i = 0; i < RAW_SWITCHES; i++)
        exchange(&raw_main, raw_other);
    return (bench_cpu_ns() - start) / RAW_SWITCHES;
}

static double pop_jmp(void) {
    return raw_pair(raw_jump, raw_jumping);
}
static double pop_ret(void) {
    return raw_pair(raw_return, raw_returning);
}

/* A switch that the compiler puts into the function: it saves what it needs around it. */
# define RAW_INLINE(from, to)                                                                      \
  do {                                                                                             \
   void **from_ = &(from), *to_ = (to);                                                            \
   __asm__ volatile("lea 1f(%%rip), %%rax\n push %%rbp\n push %%rbx\n push %%rax\n"                \
                    "mov %%rsp, (%0)\n mov %1, %%rsp\n pop %%rax\n jmp *%%rax\n"                   \
                    "1: pop %%rbx\n pop %%rbp\n"                                                   \
                    : "+D"(from_), "+S"(to_)                                                       \
                    :                                                                              \
                    : "rax", "rcx", "rdx", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15",   \
                      "memory", "cc");                                                             \
  } while (0)

static __attribute__((noinline)) void raw_inlined(void) {
    for (;;)
        RAW_INLINE(raw_other, raw_main);
}

/* No leaf function, since the switch writes below its stack pointer. */
static __attribute__((noinline)) double inlined(void) {
    void **at = (void **)(void *)(raw_stack + RAW_STACK - 64) - 8;
    void (*body)(void) = raw_inlined;
    memcpy(&at[0], &body, sizeof body);
    raw_other = at;
    double start = bench_cpu_ns();
    for (int i = 0; i < RAW_SWITCHES; i++)
        RAW_INLINE(raw_main, raw_other);
    return (bench_cpu_ns() - start) / RAW_SWITCHES;
}

/* As many stacks as yield_round has tasks. Their tops lie on pages of their own, but not all at the
   same place of the page, where they would compete for a few lines of the caches. */
static void *ring[YIELD_TASKS];
static size_t ring_at;

static void ring_next(void) {
    size_t from = ring_at;
    ring_at = from + 1 < YIELD_TASKS ? from + 1 : 0;
    raw_jump(&ring[from], ring[ring_at]);
}

static void ring_body(void) {
    for (;;)
        ring_next();
}

static double in_a_ring(void) {
    size_t page = 4096, size = YIELD_TASKS * 2 * page;
    unsigned char *stacks =
        mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    expect(stacks != MAP_FAILED, "mmap");
    for (size_t i = 1; i < YIELD_TASKS; i++)
        ring[i] = raw_prepare(stacks + (i + 1) * 2 * page - i % 16 * 128, ring_body);
    ring_at = 0;
    ring_next();
    double start = bench_cpu_ns();
    for (int i = 0; i < YIELDS; i++)
        ring_next();
    double figure = (bench_cpu_ns() - start) / YIELDS / YIELD_TASKS;
    munmap(stacks, size);
    return figure;
}

#else /* no such switch is known here */

static double pop_jmp(void) {
    return (double)NAN;
}
static double pop_ret(void) {
    return (double)NAN;
}
static double inlined(void) {
    return (double)NAN;
}
static double in_a_ring(void) {
    return (double)NAN;
}

#endif

#define SWAPS 500000

static ucontext_t swap_main, swap_other;
static jmp_buf jump_main, jump_other;

static void prepare_context(void (*body)(void)) {
    expect(getcontext(&swap_other) == 0, "getcontext");
    swap_other.uc_stack.ss_sp = raw_stack;
    swap_other.uc_stack.ss_size = sizeof raw_stack;
    swap_other.uc_link = NULL;
    makecontext(&swap_other, body, 0);
}

static void swapping(void) {
    for (;;)
        swapcontext(&swap_other, &swap_main);
}

static double swapcontexts(void) {
    prepare_context(swapping);
    double start = bench_cpu_ns();
    for (int i = 0; i < SWAPS; i++)
        swapcontext(&swap_main, &swap_other);
    return (bench_cpu_ns() - start) / SWAPS;
}

static void jumping(void) {
    if (_setjmp(jump_other) == 0)
        swapcontext(&swap_other, &swap_main);
    for (;;)
        if (_setjmp(jump_other) == 0)
            _longjmp(jump_main, 1);
}

static double setjmps(void) {
    prepare_context(jumping);
    swapcontext(&swap_main, &swap_other);
    double start = bench_cpu_ns();
    for (volatile int i = 0; i < RAW_SWITCHES / 4; i++)
        if (_setjmp(jump_main) == 0)
            _longjmp(jump_other, 1);
    return (bench_cpu_ns() - start) / (RAW_SWITCHES / 4);
}

/* ---- what the machine allows: atomics and memory ---- */

#define RMWS 20000000

static double one_rmw(void) {
    static uint32_t word;
    double start = bench_cpu_ns();
    for (int i = 0; i < RMWS; i++)
        __atomic_fetch_add(&word, 1, __ATOMIC_SEQ_CST);
    return (bench_cpu_ns() - start) / RMWS;
}

static double jumps_and_2_rmws(void) {
    return pop_jmp() + 2 * one_rmw();
}
static double jumps_and_4_rmws(void) {
    return pop_jmp() + 4 * one_rmw();
}

/* Seconds to write to one page of each of as many stacks. */
static double touched_pages(void) {
    size_t size = (size_t)SLEEPERS * MTASK_CORO_STACK;
    unsigned char *stacks = mmap(NULL, size, PROT_READ | PROT_WRITE,
                                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (stacks == MAP_FAILED)
        return (double)NAN;
    double start = bench_cpu_ns();
    for (size_t at = 0; at < size; at += MTASK_CORO_STACK)
        *(volatile unsigned char *)(stacks + at) = 1;
    double lasted = bench_cpu_ns() - start;
    munmap(stacks, size);
    return lasted / 1e9;
}

/* ---- what else is worth knowing ---- */

/* The median of some runs. */
static double median_of(double (*run)(void)) {
    double figures[5];
    for (size_t i = 0; i < BENCH_LENGTH(figures); i++)
        figures[i] = run();
    return bench_summarize(figures, (int)BENCH_LENGTH(figures)).median;
}

static void note_switches(void) {
    printf("    two switches: %.2f ns with pop and jmp, %.2f with ret, %.2f inlined; swapcontext "
           "%.0f\n",
           median_of(pop_jmp), median_of(pop_ret), median_of(inlined), median_of(swapcontexts));
}

static void note_rmw(void) {
    printf("    an atomic read-modify-write takes %.2f ns, two switches with jmp %.2f\n",
           median_of(one_rmw), median_of(pop_jmp));
}

/* A page table of 4 KiB has an entry for each page of 2 MiB. */
static void note_page_tables(void) {
    printf("    with 4 KiB pages, stacks of %d KiB need %d bytes of page tables each on top\n",
           MTASK_CORO_STACK / 1024, MTASK_CORO_STACK / 512);
}

static void note_transfers(void) {
    printf("    two threads that never sleep hand a word over in %.3f us\n",
           median_of(two_transfers));
}

/* ---- the table ---- */

/* Their names, with their versions if they are there. */
static char boost[48] = "Boost.Context", go[48] = "Go";

/* This program, alone with a figure. */
static char self_sleepers[512], self_sleepers_bytes[512], self_parked[512];

#define PEER(name) "build/bench/peer_coro_" name

/* Appends the version that `PROGRAM version` prints. */
static void name_peer(char name[48], const char *program) {
    char command[128], text[128] = "", version[12] = "";
    snprintf(command, sizeof command, "%s version 2>/dev/null", program);
    FILE *output = popen(command, "r");
    if (output == NULL)
        return;
    if (fgets(text, sizeof text, output) != NULL)
        sscanf(text + strcspn(text, "0123456789"), "%11[0-9.]", version);
    pclose(output);
    if (version[0] != '\0')
        strcat(strcat(name, " "), version);
}

static void name_self(char command[512], const char *figure) {
    char path[256];
    ssize_t length = readlink("/proc/self/exe", path, sizeof path - 1);
    path[length > 0 ? length : 0] = '\0';
    snprintf(command, 512, "'%s' alone %s", path, figure);
}

static void name_programs(void) {
    name_peer(boost, PEER("boost"));
    name_peer(go, PEER("go"));
    name_self(self_sleepers, "sleepers_100k");
    name_self(self_sleepers_bytes, "sleepers_100k_bytes");
    name_self(self_parked, "million_parked");
}

#define FROM(name_, run_)                                                                          \
 { .name = (name_), .run = (run_) }
#define BYTES(name_, value_)                                                                       \
 { .name = (name_), .value = (double)(value_) }
#define COMMAND(name_, command_)                                                                   \
 { .name = (name_), .command = (command_) }
#define OURS(run_)    FROM("mtask", run_)
#define ALONE(line)   COMMAND("mtask", line)
#define NO_LIMIT      FROM(NULL, NULL)
#define BOOST(figure) COMMAND(boost, PEER("boost") " " figure)
#define GO(figure)    COMMAND(go, PEER("go") " " figure)

static const bench_case cases[] = {
    {"switch_pair", "ns", OURS(switch_pair), BOOST("switch_pair"), FROM("pop+jmp", pop_jmp), 0.6, 0,
     NULL},
    {"switch_pair", "ns", OURS(switch_pair), FROM("swapcontext", swapcontexts),
     FROM("inlined", inlined), 0, 5, note_switches},
    {"switch_pair_ucontext", "ns", COMMAND("mtask", PEER("ucontext") " switch_pair_ucontext"),
     FROM("swapcontext", swapcontexts), FROM("setjmp", setjmps), 0.15, 0, NULL},
    {"create_run_destroy", "ns", OURS(create_run_destroy), BOOST("create_run_destroy"),
     FROM("pop+jmp", pop_jmp), 0.8, 0, NULL},
    {"spawn_join", "ns", OURS(spawn_join), GO("spawn_join"),
     FROM("pop+jmp + 2 RMWs", jumps_and_2_rmws), 0.3, 0, NULL},
    {"chan_pingpong", "ns", OURS(chan_pingpong), GO("chan_pingpong"),
     FROM("pop+jmp + 4 RMWs", jumps_and_4_rmws), 0.5, 0, note_rmw},
    {"yield_round", "ns", OURS(yield_round), GO("yield_round"),
     FROM("pop+jmp in a ring", in_a_ring), 0.3, 0, NULL},
    {"sleepers_100k", "s", ALONE(self_sleepers), GO("sleepers_100k"),
     FROM("touched pages", touched_pages), 0.8, 5, NULL},
    {"sleepers_100k_bytes", "bytes", ALONE(self_sleepers_bytes), GO("sleepers_100k_bytes"),
     BYTES("a page", 4096), 3, 3, note_page_tables},
    {"million_parked", "bytes", ALONE(self_parked), BYTES("aim", 9000), BYTES("a page", 4096), 1, 1,
     NULL},
    {"million_parked", "bytes", ALONE(self_parked), GO("million_parked"), NO_LIMIT, 0, 1, NULL},
    {"thread_to_coro", "us", OURS(thread_to_coro), GO("thread_to_coro"),
     FROM("two words", two_words), 1, 0, note_transfers},
};

int main(int argc, char **argv) {
    if (argc == 3 && strcmp(argv[1], "alone") == 0)
        return run_alone(argv[2]);
    name_programs();
    return bench_main("coro", cases, BENCH_LENGTH(cases), argc, argv);
}
