/* test_mtask_queue_kill.c - shared queues whose users are killed (SIGKILL)

   Three ways to hit an instruction. A process is stepped with ptrace through one call and killed
   after 0, 1, 2, ... instructions: so each one is hit, of each call, for each kind of queue; also of
   a call that mends what another killed process left. A process is killed while others sleep for
   what it was about to bring. And crowds of processes go on, while one or several at a time are
   killed at random moments.

   Of each killed call the part that was done must be a part of it: of a batch, the first items. All
   else stays, whole and in order, and the queue serves the others, without being made anew. */
#define TEST_TIMEOUT 60
#include "testing_threads.h"
#include "../mtask_queue.h"

#include <errno.h>
#include <sched.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>

#ifdef MTASK_FORCE_POSIX
enum { CAN_SHARE = 0 };
#else
enum { CAN_SHARE = 1 };
#endif

#if TESTING_TSAN
/* The queue's locks are robust pthread mutexes, of whose other users in other processes TSan knows
   nothing. */
const char *__tsan_default_options(void);
const char *__tsan_default_options(void) {
    return "report_mutex_bugs=0:report_destroy_locked=0";
}
#endif

enum { KINDS = 3, RANKS = 3, BATCH = 3, CAPACITY = 7, START = 4 };

static const mtask_queue_kind kinds[KINDS] = {MTASK_FIFO, MTASK_LIFO, MTASK_PRIORITY};
static const char *const kind_names[KINDS] = {"FIFO", "LIFO", "PRIORITY"};

/* How long a call may take that others are to make possible: a watchdog, and no measure. */
#define PATIENCE MTASK_SEC(20)

/* An item that shows whether it came through whole. */
typedef struct parcel {
    uint32_t producer;
    uint32_t rank; /* what a priority queue orders by */
    uint32_t serial;
    uint32_t epoch;   /* items of another one must not come back */
    uint64_t check;   /* of the other fields */
    uint64_t copy[3]; /* of check */
} parcel;

static uint64_t checksum(const parcel *item) {
    uint64_t sum = item->serial * UINT64_C(0x9e3779b97f4a7c15) + item->rank;
    sum = (sum ^ sum >> 29) * UINT64_C(0xbf58476d1ce4e5b9) + item->producer;
    return (sum ^ sum >> 32) * UINT64_C(0x94d049bb133111eb) + item->epoch;
}

static parcel make_parcel(uint32_t producer, uint32_t rank, uint32_t serial, uint32_t epoch) {
    parcel item = {producer, rank, serial, epoch, 0, {0, 0, 0}};
    item.check = item.copy[0] = item.copy[1] = item.copy[2] = checksum(&item);
    return item;
}

static bool is_whole(const parcel *item) {
    uint64_t sum = checksum(item);
    return item->check == sum && item->copy[0] == sum && item->copy[1] == sum &&
           item->copy[2] == sum;
}

static int by_rank(const void *a, const void *b, void *ctx) {
    const parcel *one = (const parcel *)a;
    const parcel *two = (const parcel *)b;
    (void)ctx;
    testing_check(is_whole(one) && is_whole(two));
    return one->rank < two->rank ? -1 : one->rank > two->rank;
}

static void *share(size_t size) {
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    testing_check(memory != MAP_FAILED);
    return memory;
}

static mtask_queue_desc describe(mtask_queue_kind kind, size_t capacity, void *storage,
                                 size_t storage_size) {
    mtask_queue_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.kind = kind;
    desc.capacity = capacity;
    desc.item_size = sizeof(parcel);
    desc.compare = kind == MTASK_PRIORITY ? by_rank : NULL;
    desc.storage = storage;
    desc.storage_size = storage_size;
    desc.flags = MTASK_SHARED;
    return desc;
}

/* Waits for the end of a process; fails the test if something failed there. */
static void reap(pid_t pid) {
    int status = 0;
    testing_check(waitpid(pid, &status, 0) == pid);
    ck_assert_msg(status == 0, "a child ended with %#x", (unsigned)status);
}

/* Waits for the end of a process that was killed, and did not end of itself. */
static void bury(pid_t pid) {
    int status = 0;
    testing_check(waitpid(pid, &status, 0) == pid);
    ck_assert_msg(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "a child ended with %#x",
                  (unsigned)status);
}

static void slay(pid_t pid) {
    testing_check(kill(pid, SIGKILL) == 0);
    bury(pid);
}

/* ---- what must be in a queue: models ----

   The same calls on plain arrays. Of a killed call nobody knows how much of it was done, so there is
   a set of models, one for each possibility; what is seen of the queue strikes out those that it
   contradicts. One at least must be left. */

enum { MODEL_ITEMS = 12, MODELS = 64 };

typedef struct queue_model {
    mtask_queue_kind kind;
    size_t count;
    size_t puts;               /* so far: what is unfinished */
    parcel items[MODEL_ITEMS]; /* in the order in which they come out */
} queue_model;

typedef struct model_set {
    size_t count;
    queue_model models[MODELS];
} model_set;

static void model_put(queue_model *model, const parcel *item) {
    size_t at = model->kind == MTASK_LIFO ? 0 : model->count;
    testing_check(model->count < MODEL_ITEMS);
    while (model->kind == MTASK_PRIORITY && at > 0 && model->items[at - 1].rank > item->rank)
        at--;
    memmove(&model->items[at + 1], &model->items[at], (model->count - at) * sizeof *item);
    model->items[at] = *item;
    model->count++;
    model->puts++;
}

static void model_take(queue_model *model) {
    testing_check(model->count > 0);
    model->count--;
    memmove(&model->items[0], &model->items[1], model->count * sizeof model->items[0]);
}

static bool same_item(const parcel *a, const parcel *b) {
    return memcmp(a, b, sizeof *a) == 0;
}

/* A call of a process that is to be killed in it. */
typedef enum call_name {
    PUT,
    GET,
    PUT_MANY,
    GET_MANY,
    PEEK,
    DISCARD,
    CLOSE,
    INIT,
    CALLS
} call_name;
static const char *const call_names[CALLS] = {"put",  "get",     "put_many", "get_many",
                                              "peek", "discard", "close",    "init"};

typedef struct killable_call {
    call_name name;
    size_t count; /* items to put; most items to get */
    int64_t timeout;
    parcel items[BATCH];
} killable_call;

static void set_add(model_set *set, const queue_model *added) {
    testing_check(set->count < MODELS);
    set->models[set->count++] = *added;
}

/* How many items a call moves, if it is not killed. */
static size_t call_moves(const killable_call *call, const queue_model *model) {
    size_t limit = model->count;
    if (call->name == PEEK || call->name == CLOSE || call->name == INIT)
        return 0;
    if (call->name == DISCARD)
        return limit;
    if (call->name == PUT || call->name == PUT_MANY)
        limit = CAPACITY - model->count;
    return call->count < limit ? call->count : limit;
}

/* Adds what comes of a model by a call that was killed after it had moved 1, 2, ... items; or, if it
   was not killed, all. Of what discard took out, all is counted as done but perhaps the last. */
static void set_add_outcomes(model_set *set, queue_model model, const killable_call *call,
                             bool killed) {
    size_t most = call_moves(call, &model);
    for (size_t done = 1; done <= most; done++) {
        if (call->name == PUT || call->name == PUT_MANY)
            model_put(&model, &call->items[done - 1]);
        else
            model_take(&model);
        if (call->name == DISCARD && killed)
            set_add(set, &model);
        model.puts -= call->name == DISCARD;
        if (killed || done == most)
            set_add(set, &model);
    }
}

/* Replaces each model by all that could come of it if a call on it was killed; or, if it was not,
   by what came of it. */
static void set_apply(model_set *set, const killable_call *call, bool killed) {
    size_t before = set->count;
    for (size_t i = before; i-- > 0;) {
        queue_model model = set->models[i];
        set_add_outcomes(set, model, call, killed);
        if (!killed && call_moves(call, &model) > 0)
            set->models[i] = set->models[--set->count];
    }
}

/* Strikes a model out. */
static void set_remove(model_set *set, size_t i) {
    set->models[i] = set->models[--set->count];
}

static void set_saw_size(model_set *set, size_t size) {
    for (size_t i = set->count; i-- > 0;)
        if (set->models[i].count != size)
            set_remove(set, i);
}

static void set_saw_unfinished(model_set *set, size_t unfinished) {
    for (size_t i = set->count; i-- > 0;)
        if (set->models[i].puts != unfinished)
            set_remove(set, i);
}

/* `status` and `item` are what a get or peek answered. */
static void set_saw_first(model_set *set, mtask_status status, const parcel *item, bool taken) {
    for (size_t i = set->count; i-- > 0;) {
        queue_model *model = &set->models[i];
        bool fits = status == MTASK_EMPTY ? model->count == 0
                                          : status == MTASK_OK && model->count > 0 &&
                                                same_item(&model->items[0], item);
        if (!fits)
            set_remove(set, i);
        else if (taken && status == MTASK_OK)
            model_take(model);
    }
}

static void set_saw_put(model_set *set, const parcel *item) {
    for (size_t i = 0; i < set->count; i++)
        model_put(&set->models[i], item);
}

/* ---- the queue of a process that is killed in a known call ---- */

typedef struct stage {
    MTASK_QUEUE_STORAGE(storage, CAPACITY, sizeof(parcel));
    int done; /* the child's call has returned */
    mtask_queue_kind kind;
    mtask_queue queue; /* the parent's handle */
    uint32_t serial;   /* of the next item */
    uint32_t rounds;
    int64_t start;
    char label[160]; /* what is being done, for messages */
    model_set set;
} stage;

static mtask_status init_stage_queue(stage *all, mtask_queue *queue) {
    mtask_queue_desc desc = describe(all->kind, CAPACITY, all->storage, sizeof all->storage);
    return mtask_queue_init(queue, &desc);
}

static stage *make_stage(mtask_queue_kind kind) {
    stage *all = (stage *)share(sizeof *all);
    all->kind = kind;
    all->serial = 1;
    all->start = mtask_now();
    ck_assert_status(init_stage_queue(all, &all->queue), MTASK_OK);
    return all;
}

/* A killed process must be given the CPU to die: on a busy machine all takes its time. */
static bool has_patience(const stage *all) {
    return mtask_now() - all->start < MTASK_SEC(12);
}

static void unmake_stage(stage *all) {
    ck_assert_status(mtask_queue_deinit(&all->queue), MTASK_OK);
    testing_check(munmap(all, sizeof *all) == 0);
}

static void attach_to_stage(mtask_queue *queue, stage *all) {
    mtask_queue_desc desc = describe(all->kind, CAPACITY, all->storage, sizeof all->storage);
    ck_assert_status(mtask_queue_attach(queue, &desc), MTASK_OK);
}

/* Fails the test if nothing that could have been explains what was seen. */
static void stage_check(const stage *all, const char *seen) {
    if (all->set.count == 0)
        ck_abort_msg("%s: %s is not right", all->label, seen);
}

/* Of mixed ranks, so that the heap has work to do. */
static parcel next_parcel(stage *all) {
    uint32_t serial = all->serial++;
    return make_parcel(7, (serial * 2654435761U >> 16) % RANKS, serial, 1);
}

static void stage_put(stage *all) {
    parcel item = next_parcel(all);
    ck_assert_status(mtask_queue_put(&all->queue, &item, PATIENCE), MTASK_OK);
    set_saw_put(&all->set, &item);
}

static mtask_status stage_get(stage *all) {
    parcel item;
    mtask_status status = mtask_queue_get(&all->queue, &item, MTASK_NOWAIT);
    set_saw_first(&all->set, status, &item, true);
    stage_check(all, "what came out");
    return status;
}

static void stage_peek(stage *all) {
    parcel item;
    mtask_status status = mtask_queue_peek(&all->queue, &item);
    set_saw_first(&all->set, status, &item, false);
    stage_check(all, "what is first");
}

/* Begins a round with `count` items in the queue. */
static void stage_begin(stage *all, size_t count) {
    memset(&all->set.models[0], 0, sizeof all->set.models[0]);
    all->set.models[0].kind = all->kind;
    all->set.count = 1;
    all->rounds++;
    while (count-- > 0)
        stage_put(all);
}

/* Ends a round: takes everything out, and counts it as done. */
static void stage_end(stage *all) {
    size_t unfinished;
    while (stage_get(all) == MTASK_OK) {
    }
    unfinished = mtask_queue_unfinished(&all->queue);
    set_saw_unfinished(&all->set, unfinished);
    stage_check(all, "how many are unfinished");
    while (unfinished-- > 0)
        ck_assert_status(mtask_queue_task_done(&all->queue), MTASK_OK);
    ck_assert_status(mtask_queue_task_done(&all->queue), MTASK_OVERFLOW);
    ck_assert_status(mtask_queue_join(&all->queue, MTASK_NOWAIT), MTASK_OK);
}

/* Ends a round in which a process was killed. Various calls are the first to find its locks. */
static void stage_verify(stage *all) {
    if (all->rounds % 4 == 0 && mtask_queue_size(&all->queue) + BATCH < CAPACITY)
        stage_put(all);
    else if (all->rounds % 4 == 1)
        (void)stage_get(all);
    stage_peek(all);
    set_saw_size(&all->set, mtask_queue_size(&all->queue));
    stage_check(all, "the size");
    if (all->rounds % 4 == 2 && !mtask_queue_is_full(&all->queue))
        stage_put(all);
    stage_end(all);
}

/* ---- stepping through a call ----

   The child stops at the beginning of the call. Single steps from there would take too long, since
   each costs some 20 us: where the architecture is known, a breakpoint takes it near the instruction
   where it is to be killed. */

static killable_call make_call(stage *all, call_name name, int64_t timeout) {
    killable_call made;
    memset(&made, 0, sizeof made);
    made.name = name;
    made.count = name == PUT_MANY || name == GET_MANY ? BATCH : 1;
    made.timeout = timeout;
    for (size_t i = 0; i < made.count; i++)
        made.items[i] = next_parcel(all);
    return made;
}

static mtask_status do_call(stage *all, mtask_queue *queue, killable_call *call) {
    switch (call->name) {
    case PUT:
        return mtask_queue_put(queue, call->items, call->timeout);
    case GET:
        return mtask_queue_get(queue, call->items, call->timeout);
    case PUT_MANY:
        return mtask_queue_put_many(queue, call->items, call->count, NULL, call->timeout);
    case GET_MANY:
        return mtask_queue_get_many(queue, call->items, call->count, NULL, call->timeout);
    case PEEK:
        return mtask_queue_peek(queue, call->items);
    case DISCARD:
        return mtask_queue_discard(queue, NULL, NULL, NULL);
    case CLOSE:
        return mtask_queue_close(queue);
    default:
        return init_stage_queue(all, queue);
    }
}

enum { NO_PTRACE = 77, TRACE_MAX = 1 << 16 };

/* Where a call's instructions lie, in the order in which they were executed. */
typedef struct call_trace {
    long count;
    uintptr_t at[TRACE_MAX];
    long targets; /* the numbers of those where children are to be killed */
    long target[TRACE_MAX];
} call_trace;

/* Hands the control to the tracer. */
static void stop_here(void) {
#if defined(__x86_64__)
    __asm__ volatile("int3");
#else
    testing_check(raise(SIGTRAP) == 0);
#endif
}

static void be_stepped(stage *all, killable_call *call) {
    mtask_queue queue;
    attach_to_stage(&queue, all);
    if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) != 0)
        _exit(NO_PTRACE);
    stop_here();
    (void)do_call(all, &queue, call);
    __atomic_store_n(&all->done, 1, __ATOMIC_SEQ_CST);
    for (;;)
        stop_here();
}

/* Waits until the child stops again. */
static void await_stop(pid_t pid) {
    int status = 0;
    testing_check(waitpid(pid, &status, 0) == pid);
    ck_assert_msg(WIFSTOPPED(status) && WSTOPSIG(status) == SIGTRAP, "a child did %#x",
                  (unsigned)status);
}

static pid_t start_stepped(stage *all, killable_call *call) {
    pid_t pid;
    all->done = 0;
    pid = fork();
    testing_check(pid >= 0);
    if (pid == 0)
        be_stepped(all, call);
    await_stop(pid);
    return pid;
}

static bool is_done(const stage *all) {
    return __atomic_load_n(&all->done, __ATOMIC_SEQ_CST) != 0;
}

static void step(pid_t pid) {
    testing_check(ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL) == 0);
    await_stop(pid);
}

#if defined(__x86_64__)
static uintptr_t program_counter(pid_t pid) {
    return (uintptr_t)ptrace(PTRACE_PEEKUSER, pid, offsetof(struct user, regs.rip), NULL);
}

static void set_program_counter(pid_t pid, uintptr_t at) {
    testing_check(ptrace(PTRACE_POKEUSER, pid, offsetof(struct user, regs.rip), at) == 0);
}

/* Runs the child until it has come to `at` so many times. False: it cannot be stopped there, and is
   where it was. It may also stop elsewhere, where its call has ended. */
static bool run_up_to(pid_t pid, uintptr_t at, long times) {
    long code;
    errno = 0;
    code = ptrace(PTRACE_PEEKTEXT, pid, at, NULL);
    if (errno != 0)
        return false;
    while (times-- > 0) {
        if (ptrace(PTRACE_POKETEXT, pid, at, (code & ~0xffL) | 0xcc) != 0) /* int3 */
            return false;
        testing_check(ptrace(PTRACE_CONT, pid, NULL, NULL) == 0);
        await_stop(pid);
        testing_check(ptrace(PTRACE_POKETEXT, pid, at, code) == 0);
        if (program_counter(pid) != at + 1)
            break;
        set_program_counter(pid, at);
        if (times > 0)
            step(pid);
    }
    return true;
}
#else
static uintptr_t program_counter(pid_t pid) {
    (void)pid;
    return 0;
}

static bool run_up_to(pid_t pid, uintptr_t at, long times) {
    (void)pid;
    (void)at;
    (void)times;
    return false;
}
#endif

/* How many times the trace has come to where it is at number `index`, this time included. */
static long times_there(const call_trace *trace, long index) {
    long times = 1;
    for (long i = 0; i < index; i++)
        times += trace->at[i] == trace->at[index];
    return times;
}

/* Takes the child to instruction number `index`, by a breakpoint there, or before it where that is
   nearer. */
static void step_to(pid_t pid, const stage *all, const call_trace *trace, long index) {
    long at = 0, times = 0, cost = index;
    for (long i = index; index - i < cost; i--) {
        long there = times_there(trace, i);
        if (index - i + 3 * there >= cost)
            continue;
        cost = index - i + 3 * there;
        at = i;
        times = there;
    }
    if (times > 0 && !run_up_to(pid, trace->at[at], times))
        at = 0;
    for (; at < index && !is_done(all); at++)
        step(pid);
}

/* Does the call in a child, step by step, and notes its way. */
static void trace_call(stage *all, killable_call *call, call_trace *trace) {
    pid_t pid = start_stepped(all, call);
    for (trace->count = 0; !is_done(all); trace->count++) {
        testing_check(trace->count < TRACE_MAX);
        trace->at[trace->count] = program_counter(pid);
        step(pid);
    }
    slay(pid);
    set_apply(&all->set, call, false);
}

/* Does the call in a child that is killed at instruction number `index`. */
static void kill_in_call(stage *all, killable_call *call, const call_trace *trace, long index) {
    pid_t pid = start_stepped(all, call);
    step_to(pid, all, trace, index);
    slay(pid);
    set_apply(&all->set, call, true);
}

/* Keeps this process and its children on one CPU: they take turns anyway, and so it is faster. */
static void stay_on_one_cpu(void) {
    cpu_set_t one;
    int cpu = sched_getcpu();
    CPU_ZERO(&one);
    CPU_SET(cpu >= 0 ? (unsigned)cpu : 0U, &one);
    (void)sched_setaffinity(0, sizeof one, &one);
}

static int try_ptrace(void) {
    int status = 0;
    pid_t pid = fork();
    testing_check(pid >= 0);
    if (pid == 0)
        _exit(ptrace(PTRACE_TRACEME, 0, NULL, NULL) != 0 ? NO_PTRACE : 0);
    testing_check(waitpid(pid, &status, 0) == pid);
    return status;
}

/* Whether processes can be stepped here; says so if not. */
static bool can_step(void) {
    if (TESTING_TSAN) {
        fprintf(stderr, "skipped: ThreadSanitizer and ptrace do not go together\n");
        return false;
    }
    if (try_ptrace() != 0) {
        fprintf(stderr, "skipped: ptrace is not allowed here\n");
        return false;
    }
    stay_on_one_cpu();
    return true;
}

/* Chooses where to kill: at all instructions, or, if they are more than `most`, at so many of those
   to which the call has come for the first time, evenly spread. */
static void choose_targets(call_trace *trace, long most) {
    long fresh = 0;
    trace->targets = trace->count;
    for (long i = 0; i < trace->count; i++)
        trace->target[i] = i;
    if (trace->count <= most)
        return;
    for (long i = 0; i < trace->count; i++)
        if (times_there(trace, i) == 1)
            trace->target[fresh++] = i;
    trace->targets = fresh < most ? fresh : most;
    for (long i = 0; i < trace->targets; i++)
        trace->target[i] = trace->target[i * fresh / trace->targets];
}

/* Kills children at each instruction of one call, or at `most` of them. The queue holds `start`
   items when the call begins. */
static void kill_all_along(stage *all, call_name name, size_t start, int64_t timeout, long most) {
    static call_trace trace;
    killable_call call = make_call(all, name, timeout);
    long kills = 0;
    snprintf(all->label, sizeof all->label, "%s %s", kind_names[all->kind], call_names[name]);
    stage_begin(all, start);
    (void)do_call(all, &all->queue,
                  &call); /* here, so that the children find all functions linked */
    set_apply(&all->set, &call, false);
    stage_verify(all);
    call = make_call(all, name, timeout);
    stage_begin(all, start);
    trace_call(all, &call, &trace);
    stage_verify(all);
    choose_targets(&trace, most);
    for (; kills < trace.targets && has_patience(all); kills++) {
        long index = trace.target[kills];
        call = make_call(all, name, timeout);
        snprintf(all->label, sizeof all->label, "%s %s, killed at instruction %ld of %ld",
                 kind_names[all->kind], call_names[name], index, trace.count);
        stage_begin(all, start);
        kill_in_call(all, &call, &trace, index);
        stage_verify(all);
    }
    fprintf(stderr, "%s %s: %ld kills in %ld instructions\n", kind_names[all->kind],
            call_names[name], kills, trace.count);
}

static void kill_at_each_instruction(mtask_queue_kind kind) {
    stage *all;
    if (!can_step())
        return;
    all = make_stage(kind);
    kill_all_along(all, PUT, START, MTASK_FOREVER, testing_scale(1500));
    kill_all_along(all, GET, START, MTASK_FOREVER, testing_scale(1500));
    kill_all_along(all, PUT_MANY, START, MTASK_FOREVER, testing_scale(1500));
    kill_all_along(all, GET_MANY, START, MTASK_FOREVER, testing_scale(1500));
    kill_all_along(all, PEEK, START, 0, testing_scale(60));
    kill_all_along(all, DISCARD, START, 0, testing_scale(120));
    unmake_stage(all);
}

START_TEST(a_fifo_queue_survives_a_kill_at_each_instruction) {
    kill_at_each_instruction(MTASK_FIFO);
}
END_TEST

START_TEST(a_stack_survives_a_kill_at_each_instruction) {
    kill_at_each_instruction(MTASK_LIFO);
}
END_TEST

START_TEST(a_priority_queue_survives_a_kill_at_each_instruction) {
    kill_at_each_instruction(MTASK_PRIORITY);
}
END_TEST

/* A call that has to wait is killed before, in and after its sleep. */
START_TEST(queues_survive_a_kill_along_a_call_that_waits_in_vain) {
    if (!can_step())
        return;
    for (int i = 0; i < KINDS; i++) {
        stage *all = make_stage(kinds[i]);
        kill_all_along(all, GET, 0, MTASK_US(300), testing_scale(200));
        kill_all_along(all, PUT, CAPACITY, MTASK_US(300), testing_scale(200));
        unmake_stage(all);
    }
}
END_TEST

/* ---- one that mends is killed too ---- */

/* How many items the queue holds at the beginning, so that both calls can be done. */
static size_t items_for(call_name first) {
    return first == GET || first == GET_MANY ? START : START - 1;
}

/* The first call is killed at instruction number `index`; then the second at instructions spread
   over all that it does then. */
static void kill_the_mender(stage *all, call_name first, call_name second, const call_trace *way,
                            long index) {
    static call_trace mending;
    long kills = testing_scale(10);
    for (long kill = -1; kill < kills && has_patience(all); kill++) {
        killable_call one = make_call(all, first, MTASK_FOREVER);
        killable_call two = make_call(all, second, MTASK_FOREVER);
        snprintf(all->label, sizeof all->label,
                 "%s %s, killed at instruction %ld, then %s, number %ld of %ld",
                 kind_names[all->kind], call_names[first], index, call_names[second], kill, kills);
        stage_begin(all, items_for(first));
        kill_in_call(all, &one, way, index);
        if (kill < 0)
            trace_call(all, &two, &mending);
        else
            kill_in_call(all, &two, &mending, (2 * kill + 1) * mending.count / (2 * kills));
        stage_verify(all);
    }
}

static void kill_menders(mtask_queue_kind kind, call_name first, call_name second,
                         testing_random *random) {
    static call_trace way;
    stage *all = make_stage(kind);
    killable_call call = make_call(all, first, MTASK_FOREVER);
    long indices = testing_scale(8);
    stage_begin(all, items_for(first));
    trace_call(all, &call, &way);
    stage_end(all);
    for (long i = 0; i < indices; i++) {
        long width = way.count / indices;
        long index = i * width + (long)testing_below(random, (uint64_t)width + 1);
        kill_the_mender(all, first, second, &way, index < way.count ? index : way.count - 1);
    }
    unmake_stage(all);
}

START_TEST(queues_survive_the_kill_of_one_that_mends) {
    testing_random random;
    if (!can_step())
        return;
    random = testing_random_make(testing_seed(), 0);
    for (int i = 0; i < KINDS; i++) {
        kill_menders(kinds[i], PUT_MANY, PUT, &random);
        kill_menders(kinds[i], GET_MANY, GET, &random);
        kill_menders(kinds[i], PUT, GET, &random);
        kill_menders(kinds[i], GET, PUT_MANY, &random);
    }
}
END_TEST

/* ---- one that was about to wake others is killed ---- */

static pid_t spawn_on_stage(void (*fn)(stage *all), stage *all) {
    pid_t pid = fork();
    testing_check(pid >= 0);
    if (pid == 0) {
        fn(all);
        _exit(0);
    }
    return pid;
}

static void get_one(stage *all) {
    mtask_queue queue;
    parcel item;
    attach_to_stage(&queue, all);
    ck_assert_status(mtask_queue_get(&queue, &item, MTASK_FOREVER), MTASK_OK);
    testing_check(is_whole(&item));
}

static void put_one(stage *all) {
    mtask_queue queue;
    parcel item = make_parcel(7, 0, 0, 1);
    attach_to_stage(&queue, all);
    ck_assert_status(mtask_queue_put(&queue, &item, MTASK_FOREVER), MTASK_OK);
}

/* Makes the queue empty, and nothing unfinished. */
static void empty_stage(stage *all) {
    ck_assert_status(mtask_queue_discard(&all->queue, NULL, NULL, NULL), MTASK_OK);
    while (mtask_queue_unfinished(&all->queue) > 0)
        ck_assert_status(mtask_queue_task_done(&all->queue), MTASK_OK);
}

/* A process sleeps for what a call brings, and the call is killed at instruction number `index` of
   `way`; or, if there is no way yet, it is traced. If the call got so far that others can see what
   it did, the sleeper must wake up without any further help. */
static void kill_before_it_wakes(stage *all, call_name name, call_trace *way, long index) {
    killable_call call = make_call(all, name, MTASK_FOREVER);
    size_t start = name == PUT ? 0 : CAPACITY;
    parcel item;
    pid_t sleeper;
    stage_begin(all, start);
    sleeper = spawn_on_stage(name == PUT ? get_one : put_one, all);
    testing_await_process_asleep(sleeper);
    if (way->count == 0)
        trace_call(all, &call, way);
    else
        kill_in_call(all, &call, way, index);
    (void)mtask_queue_peek(&all->queue, &item); /* mends; wakes nobody */
    if (mtask_queue_unfinished(&all->queue) == start && mtask_queue_size(&all->queue) == start)
        (void)do_call(all, &all->queue, &call); /* it was not done; nor was the sleeper's */
    reap(sleeper);
    ck_assert_uint_eq(mtask_queue_unfinished(&all->queue), start + 1);
    ck_assert_uint_eq(mtask_queue_size(&all->queue), start);
    empty_stage(all);
}

static void kill_wakers(mtask_queue_kind kind, call_name name, testing_random *random) {
    static call_trace way;
    stage *all = make_stage(kind);
    long kills = testing_scale(12);
    way.count = 0;
    kill_before_it_wakes(all, name, &way, 0);
    for (long kill = 0; kill < kills && has_patience(all); kill++) {
        long from = kill % 2 == 0 ? way.count / 2 : 0; /* it is the end that matters */
        long index = from + (long)testing_below(random, (uint64_t)(way.count - from));
        kill_before_it_wakes(all, name, &way, index);
    }
    unmake_stage(all);
}

START_TEST(sleepers_wake_though_the_one_that_would_wake_them_is_killed) {
    testing_random random;
    if (!can_step())
        return;
    random = testing_random_make(testing_seed(), 0);
    for (int i = 0; i < KINDS; i++) {
        kill_wakers(kinds[i], PUT, &random);
        kill_wakers(kinds[i], GET, &random);
    }
}
END_TEST

static void find_it_closed(stage *all) {
    mtask_queue queue;
    parcel item;
    attach_to_stage(&queue, all);
    ck_assert_status(mtask_queue_get(&queue, &item, MTASK_FOREVER), MTASK_CLOSED);
}

/* A process sleeps for an item, and another is killed while it closes the queue: it is closed for
   all, or not yet for anybody. */
static void kill_before_it_has_closed(stage *all, call_trace *way, long index) {
    killable_call call = make_call(all, CLOSE, 0);
    pid_t sleeper;
    ck_assert_status(init_stage_queue(all, &all->queue), MTASK_OK);
    sleeper = spawn_on_stage(find_it_closed, all);
    testing_await_process_asleep(sleeper);
    if (way->count == 0)
        trace_call(all, &call, way);
    else
        kill_in_call(all, &call, way, index);
    if (!mtask_queue_is_closed(&all->queue))
        ck_assert_status(mtask_queue_close(&all->queue), MTASK_OK);
    reap(sleeper);
    ck_assert_status(mtask_queue_put(&all->queue, call.items, PATIENCE), MTASK_CLOSED);
    ck_assert_status(mtask_queue_get(&all->queue, call.items, PATIENCE), MTASK_CLOSED);
}

START_TEST(queues_survive_the_kill_of_one_that_closes) {
    static call_trace way;
    if (!can_step())
        return;
    for (int i = 0; i < KINDS; i++) {
        stage *all = make_stage(kinds[i]);
        long kills = testing_scale(12);
        way.count = 0;
        kill_before_it_has_closed(all, &way, 0);
        for (long kill = 0; kill < kills && has_patience(all); kill++)
            kill_before_it_has_closed(all, &way, (2 * kill + 1) * way.count / (2 * kills));
        unmake_stage(all);
    }
}
END_TEST

/* ---- one that makes a queue is killed ---- */

/* A queue is made anew where another is, and its maker is killed: there is the old one, the new one
   or none. */
static void kill_in_init(stage *all, const call_trace *way, long index) {
    killable_call call = make_call(all, INIT, 0);
    mtask_queue_desc desc = describe(all->kind, CAPACITY, all->storage, sizeof all->storage);
    mtask_queue queue;
    mtask_status status;
    snprintf(all->label, sizeof all->label, "%s init, killed at instruction %ld of %ld",
             kind_names[all->kind], index, way->count);
    stage_begin(all, START);
    kill_in_call(all, &call, way, index);
    memset(&all->set.models[1], 0, sizeof all->set.models[1]);
    all->set.models[1].kind = all->kind;
    all->set.count = 2;
    status = mtask_queue_attach(&queue, &desc);
    if (status == MTASK_OK)
        stage_verify(all);
    else
        ck_assert_status(status, MTASK_NOT_FOUND);
    ck_assert_status(init_stage_queue(all, &all->queue), MTASK_OK);
    ck_assert(mtask_queue_is_empty(&all->queue));
}

START_TEST(a_queue_is_there_or_not_if_its_maker_is_killed) {
    static call_trace way;
    if (!can_step())
        return;
    for (int i = 0; i < KINDS; i++) {
        stage *all = make_stage(kinds[i]);
        killable_call call = make_call(all, INIT, 0);
        way.count = 0;
        trace_call(all, &call, &way);
        choose_targets(&way, testing_scale(200));
        for (long kill = 0; kill < way.targets; kill++)
            kill_in_init(all, &way, way.target[kill]);
        unmake_stage(all);
    }
}
END_TEST

/* ---- those who sleep are killed ---- */

/* Two sleep. One is killed, in its sleep or as soon as there is something for it: either it took
   that, or the other one does. */
static void kill_a_sleeper(stage *all, call_name name, bool early, testing_random *random) {
    size_t start = name == PUT ? 0 : CAPACITY;
    pid_t sleepers[2];
    parcel item;
    stage_begin(all, start);
    for (int i = 0; i < 2; i++) {
        sleepers[i] = spawn_on_stage(name == PUT ? get_one : put_one, all);
        testing_await_process_asleep(sleepers[i]);
    }
    if (early)
        slay(sleepers[0]);
    item = next_parcel(all);
    for (int i = 0; i < 2 - early; i++) {
        killable_call call = make_call(all, name, PATIENCE);
        ck_assert_status(do_call(all, &all->queue, &call), MTASK_OK);
        for (volatile uint64_t left = testing_below(random, 3000); left > 0; left--) {
        }
        if (i == 0 && !early) {
            testing_check(kill(sleepers[0], SIGKILL) == 0); /* it may have ended in time */
            testing_check(waitpid(sleepers[0], NULL, 0) == sleepers[0]);
        }
    }
    reap(sleepers[1]);
    (void)mtask_queue_peek(&all->queue, &item); /* mends */
    ck_assert_uint_le(mtask_queue_size(&all->queue) - start + 1, 2U);
    empty_stage(all);
}

START_TEST(sleepers_that_are_killed_do_not_stop_the_others) {
    testing_random random = testing_random_make(testing_seed(), 0);
    for (int i = 0; i < KINDS; i++) {
        stage *all = make_stage(kinds[i]);
        for (long round = testing_scale(10); round > 0 && has_patience(all); round--)
            kill_a_sleeper(all, round % 2 == 0 ? PUT : GET, round % 5 == 0, &random);
        unmake_stage(all);
    }
}
END_TEST

/* ---- crowds of which some are killed at random moments ---- */

enum {
    PRODUCERS = 2,
    CONSUMERS = 2,
    WORKERS = PRODUCERS + CONSUMERS,
    MAKERS = PRODUCERS + 1, /* the parent puts and takes too, as the last of each */
    TAKERS = CONSUMERS + 1,
    CROWD_BATCH = 5,
    CROWD_CAPACITY = 200,
    SERIALS = 1 << 18, /* most that one producer puts in an epoch */
    STRIKES = 12       /* kills, or several at once, of an epoch */
};

/* What a producer says of itself. Its successor goes on after `about`. */
typedef struct maker {
    uint32_t confirmed; /* items below this have been put, except for some of a killed one */
    uint32_t about;     /* items below this may have been put */
} maker;

typedef struct taker {
    uint32_t about;               /* how many items it may have taken, and not told of */
    uint32_t next[MAKERS][RANKS]; /* the least serial that may come now of each */
} taker;

typedef struct crowd {
    MTASK_QUEUE_STORAGE(storage, CROWD_CAPACITY, sizeof(parcel));
    mtask_queue_kind kind;
    size_t capacity;
    uint64_t seed;
    uint32_t epoch;
    int stop_putting;
    int stop_getting;
    maker makers[MAKERS];
    taker takers[TAKERS];
    int calls[WORKERS];             /* that each has begun */
    uint8_t seen[MAKERS][SERIALS];  /* how often each item came out */
    uint8_t maybe[MAKERS][SERIALS]; /* whether its producer was killed while it put it */
    /* ---- the parent's own ---- */
    mtask_queue queue;
    testing_random random;
    unsigned births;
    pid_t pids[WORKERS];
    uint64_t may_miss; /* how many items the killed consumers may have taken with them */
    uint64_t unsure;   /* how many items the killed producers may have put */
    long kills;
} crowd;

static int peek_int(const int *value) {
    return __atomic_load_n(value, __ATOMIC_ACQUIRE);
}

static void set_count(uint32_t *count, uint32_t value) {
    __atomic_store_n(count, value, __ATOMIC_RELEASE);
}

static void attach_to_crowd(mtask_queue *queue, crowd *all) {
    mtask_queue_desc desc = describe(all->kind, all->capacity, all->storage, sizeof all->storage);
    ck_assert_status(mtask_queue_attach(queue, &desc), MTASK_OK);
}

/* Mostly one that must not run out, since others are at work. */
static int64_t random_timeout(testing_random *random) {
    uint64_t kind = testing_below(random, 4);
    if (kind == 0)
        return MTASK_NOWAIT;
    return kind == 1 ? (int64_t)testing_below(random, MTASK_US(200)) : PATIENCE;
}

/* A call must succeed, unless it had little time. */
static void crowd_check_status(const char *what, mtask_status status, mtask_status time_is_up,
                               int64_t timeout, int64_t start) {
    if (status != MTASK_OK && (status != time_is_up || timeout == PATIENCE))
        ck_abort_msg("a %s answered %s after %ld of %ld ms", what, mtask_status_name(status),
                     (long)((mtask_now() - start) / MTASK_MS(1)), (long)(timeout / MTASK_MS(1)));
}

/* Puts up to `most` items, and says so before and after. */
static void crowd_put(mtask_queue *queue, crowd *all, int index, size_t most, int64_t timeout,
                      testing_random *random) {
    maker *self = &all->makers[index];
    int64_t start = mtask_now();
    uint32_t first = self->confirmed;
    size_t count = 1 + testing_below(random, most);
    size_t moved = 0;
    parcel items[CROWD_BATCH];
    mtask_status status;
    testing_check(first + CROWD_BATCH <= SERIALS);
    for (uint32_t i = 0; i < count; i++)
        items[i] = make_parcel((uint32_t)index, (uint32_t)testing_below(random, RANKS), first + i,
                               all->epoch);
    set_count(&self->about, first + (uint32_t)count);
    if (count > 1)
        status = mtask_queue_put_many(queue, items, count, &moved, timeout);
    else
        moved = (status = mtask_queue_put(queue, items, timeout)) == MTASK_OK;
    set_count(&self->confirmed, first + (uint32_t)moved);
    crowd_check_status("put", status, MTASK_FULL, timeout, start);
}

/* Says that an item came out. */
static void crowd_note(crowd *all, int index, const parcel *item) {
    taker *self = &all->takers[index];
    uint32_t *next;
    testing_check(is_whole(item));
    testing_check(item->epoch == all->epoch && item->producer < MAKERS && item->rank < RANKS);
    testing_check(item->serial <
                  __atomic_load_n(&all->makers[item->producer].about, __ATOMIC_ACQUIRE));
    testing_check(
        __atomic_fetch_add(&all->seen[item->producer][item->serial], 1, __ATOMIC_ACQ_REL) == 0);
    if (all->kind == MTASK_LIFO)
        return;
    next = &self->next[item->producer][all->kind == MTASK_PRIORITY ? item->rank : 0];
    testing_check(item->serial >= *next);
    *next = item->serial + 1;
}

/* Takes up to `most` items, and says so before and after. */
static void crowd_get(mtask_queue *queue, crowd *all, int index, size_t most, int64_t timeout) {
    taker *self = &all->takers[index];
    int64_t start = mtask_now();
    parcel items[CROWD_BATCH];
    size_t moved = 0;
    mtask_status status;
    set_count(&self->about, (uint32_t)most);
    if (most > 1)
        status = mtask_queue_get_many(queue, items, most, &moved, timeout);
    else
        moved = (status = mtask_queue_get(queue, items, timeout)) == MTASK_OK;
    crowd_check_status("get", status, MTASK_EMPTY, timeout, start);
    for (size_t i = 0; i < moved; i++) {
        set_count(&self->about, (uint32_t)(moved - i));
        crowd_note(all, index, &items[i]);
    }
    set_count(&self->about, 0);
}

/* Goes slower the more it has put, so that the epoch ends before the serials do. */
static void crowd_throttle(const maker *self) {
    if (self->confirmed > SERIALS / 2)
        ck_assert_status(
            mtask_sleep(self->confirmed > SERIALS / 4 * 3 ? MTASK_MS(4) : MTASK_US(50)), MTASK_OK);
}

static void produce(crowd *all, int index) {
    testing_random random = testing_random_make(all->seed, all->births);
    mtask_queue queue;
    attach_to_crowd(&queue, all);
    while (!peek_int(&all->stop_putting)) {
        __atomic_fetch_add(&all->calls[index], 1, __ATOMIC_RELEASE);
        crowd_throttle(&all->makers[index]);
        crowd_put(&queue, all, index, testing_below(&random, 3) == 0 ? CROWD_BATCH : 1,
                  random_timeout(&random), &random);
    }
}

static void consume(crowd *all, int index) {
    testing_random random = testing_random_make(all->seed, all->births);
    mtask_queue queue;
    attach_to_crowd(&queue, all);
    while (!peek_int(&all->stop_getting)) {
        __atomic_fetch_add(&all->calls[PRODUCERS + index], 1, __ATOMIC_RELEASE);
        crowd_get(&queue, all, index, testing_below(&random, 3) == 0 ? CROWD_BATCH : 1,
                  random_timeout(&random));
    }
}

/* Starts worker number `slot`. */
static void crowd_spawn(crowd *all, int slot) {
    pid_t pid;
    all->calls[slot] = 0;
    all->births++;
    pid = fork();
    testing_check(pid >= 0);
    if (pid == 0) {
        if (slot < PRODUCERS)
            produce(all, slot);
        else
            consume(all, slot - PRODUCERS);
        _exit(0);
    }
    all->pids[slot] = pid;
}

/* Reckons with the death of worker number `slot`: what is certain, and what is not. */
static void crowd_account(crowd *all, int slot) {
    all->kills++;
    if (slot < PRODUCERS) {
        maker *dead = &all->makers[slot];
        for (; dead->confirmed < dead->about; dead->confirmed++, all->unsure++)
            all->maybe[slot][dead->confirmed] = 1;
    } else {
        taker *dead = &all->takers[slot - PRODUCERS];
        all->may_miss += dead->about;
        dead->about = 0;
    }
}

/* Waits until the worker is at work, and then for a random moment. */
static void crowd_await(crowd *all, int slot) {
    while (peek_int(&all->calls[slot]) == 0)
        sched_yield();
    if (testing_below(&all->random, 4) == 0)
        ck_assert_status(mtask_sleep((int64_t)testing_below(&all->random, MTASK_US(300))),
                         MTASK_OK);
    else
        for (volatile uint64_t left = testing_below(&all->random, 20000); left > 0; left--) {
        }
}

/* Kills one worker, or several at once, and starts their successors. */
static void crowd_strike(crowd *all) {
    uint64_t count = 1 + testing_below(&all->random, 8) / 6 + testing_below(&all->random, 8) / 7;
    int first = (int)testing_below(&all->random, WORKERS);
    int step_width = 1 + 2 * (int)testing_below(&all->random, 2); /* 1 or 3: never the same */
    int victims[WORKERS];
    for (uint64_t i = 0; i < count; i++) {
        victims[i] = (first + (int)i * step_width) % WORKERS;
        crowd_await(all, victims[i]);
    }
    for (uint64_t i = 0; i < count; i++)
        testing_check(kill(all->pids[victims[i]], SIGKILL) == 0);
    for (uint64_t i = 0; i < count; i++) {
        bury(all->pids[victims[i]]);
        crowd_account(all, victims[i]);
    }
    for (uint64_t i = 0; i < count; i++)
        crowd_spawn(all, victims[i]);
}

static bool crowd_has_ended(pid_t pid) {
    siginfo_t info;
    info.si_pid = 0;
    testing_check(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0);
    return info.si_pid == pid;
}

/* Stops the consumers, and then the producers, helping each out of its wait. */
static void crowd_stop(crowd *all) {
    __atomic_store_n(&all->stop_getting, 1, __ATOMIC_RELEASE);
    for (int slot = PRODUCERS; slot < WORKERS; slot++) {
        while (!crowd_has_ended(all->pids[slot])) {
            crowd_put(&all->queue, all, PRODUCERS, 1, MTASK_NOWAIT, &all->random);
            sched_yield();
        }
        reap(all->pids[slot]);
    }
    __atomic_store_n(&all->stop_putting, 1, __ATOMIC_RELEASE);
    for (int slot = 0; slot < PRODUCERS; slot++) {
        while (!crowd_has_ended(all->pids[slot])) {
            crowd_get(&all->queue, all, CONSUMERS, 1, MTASK_NOWAIT);
            sched_yield();
        }
        reap(all->pids[slot]);
    }
}

/* Whether `item` may come out after `last`, with nobody else at work. */
static bool may_follow(const crowd *all, const parcel *last, const parcel *item) {
    if (all->kind == MTASK_PRIORITY && item->rank != last->rank)
        return item->rank > last->rank;
    if (item->producer != last->producer)
        return true;
    return all->kind == MTASK_LIFO ? item->serial < last->serial : item->serial > last->serial;
}

/* Takes out what is left: as much as the size says, in order. */
static void crowd_drain(crowd *all) {
    parcel item, last = {0};
    size_t size;
    (void)mtask_queue_peek(&all->queue, &item); /* after a kill it may be that this one mends */
    size = mtask_queue_size(&all->queue);
    ck_assert_uint_le(size, all->capacity);
    for (size_t i = 0; i < size; i++, last = item) {
        ck_assert_status(mtask_queue_get(&all->queue, &item, MTASK_NOWAIT), MTASK_OK);
        crowd_note(all, CONSUMERS, &item);
        ck_assert(i == 0 || may_follow(all, &last, &item));
    }
    ck_assert_status(mtask_queue_get(&all->queue, &item, MTASK_NOWAIT), MTASK_EMPTY);
    ck_assert(mtask_queue_is_empty(&all->queue));
}

/* Each item that was put came out once, but for those that a killed consumer had; of those that a
   killed producer was about to put, any. */
static void crowd_check(crowd *all) {
    uint64_t came = 0, missing = 0, sure = 0;
    size_t unfinished = mtask_queue_unfinished(&all->queue);
    for (int i = 0; i < MAKERS; i++)
        for (uint32_t serial = 0; serial < all->makers[i].confirmed; serial++) {
            testing_check(all->seen[i][serial] <= 1);
            came += all->seen[i][serial];
            sure += !all->maybe[i][serial];
            missing += !all->maybe[i][serial] && !all->seen[i][serial];
        }
    ck_assert_msg(missing <= all->may_miss,
                  "%lu items are missing, and only %lu may have been taken by those killed",
                  (unsigned long)missing, (unsigned long)all->may_miss);
    ck_assert_uint_ge(unfinished, sure); /* all that were put, since nobody said task_done */
    ck_assert_uint_le(unfinished, sure + all->unsure);
    ck_assert_uint_ge(unfinished, came);
    ck_assert_uint_le(unfinished, came + all->may_miss);
    while (unfinished-- > 0)
        ck_assert_status(mtask_queue_task_done(&all->queue), MTASK_OK);
    ck_assert_status(mtask_queue_task_done(&all->queue), MTASK_OVERFLOW);
    ck_assert_status(mtask_queue_join(&all->queue, MTASK_NOWAIT), MTASK_OK);
}

/* An epoch: a new crowd at the same queue, some kills, and the reckoning. */
static void crowd_epoch(crowd *all) {
    for (int i = 0; i < MAKERS; i++) {
        memset(all->seen[i], 0, all->makers[i].about);
        memset(all->maybe[i], 0, all->makers[i].about);
    }
    memset(all->makers, 0, sizeof all->makers);
    memset(all->takers, 0, sizeof all->takers);
    all->stop_putting = all->stop_getting = 0;
    all->may_miss = all->unsure = 0;
    all->epoch++;
    for (int slot = 0; slot < WORKERS; slot++)
        crowd_spawn(all, slot);
    for (int strike = 0; strike < STRIKES; strike++) {
        crowd_strike(all);
        crowd_put(&all->queue, all, PRODUCERS, CROWD_BATCH, PATIENCE, &all->random);
        crowd_get(&all->queue, all, CONSUMERS, CROWD_BATCH, PATIENCE);
    }
    crowd_stop(all);
    crowd_drain(all);
    crowd_check(all);
}

/* `kills` kills at a queue that stays the same one. */
static void crowd_run(mtask_queue_kind kind, size_t capacity, long kills, uint64_t seed) {
    crowd *all = (crowd *)share(sizeof *all);
    mtask_queue_desc desc = describe(kind, capacity, all->storage, sizeof all->storage);
    all->kind = kind;
    all->capacity = capacity;
    all->seed = seed;
    all->random = testing_random_make(seed, 0);
    ck_assert_status(mtask_queue_init(&all->queue, &desc), MTASK_OK);
    while (all->kills < kills)
        crowd_epoch(all);
    ck_assert_status(mtask_queue_close(&all->queue), MTASK_OK);
    ck_assert_status(mtask_queue_put(&all->queue, &(parcel){0}, PATIENCE), MTASK_CLOSED);
    ck_assert_status(mtask_queue_get(&all->queue, &(parcel){0}, PATIENCE), MTASK_CLOSED);
    ck_assert_status(mtask_queue_deinit(&all->queue), MTASK_OK);
    testing_check(munmap(all, sizeof *all) == 0);
}

static void kill_at_random(mtask_queue_kind kind) {
    static const size_t capacities[3] = {1, 3, CROWD_CAPACITY};
    uint64_t seed = testing_seed();
    for (size_t i = 0; i < 3; i++)
        crowd_run(kind, capacities[i], testing_scale(400), seed + i);
}

START_TEST(a_fifo_queue_outlives_kills_at_random_moments) {
    kill_at_random(MTASK_FIFO);
}
END_TEST

START_TEST(a_stack_outlives_kills_at_random_moments) {
    kill_at_random(MTASK_LIFO);
}
END_TEST

START_TEST(a_priority_queue_outlives_kills_at_random_moments) {
    kill_at_random(MTASK_PRIORITY);
}
END_TEST

START_TEST(sharing_is_supported_or_refused) {
    stage *all = (stage *)share(sizeof *all);
    mtask_queue_desc desc = describe(MTASK_FIFO, CAPACITY, all->storage, sizeof all->storage);
    ck_assert_status(mtask_queue_init(&all->queue, &desc),
                     CAN_SHARE ? MTASK_OK : MTASK_UNSUPPORTED);
}
END_TEST

int main(void) {
    const TTest *const tests[] = {sharing_is_supported_or_refused,
                                  a_fifo_queue_survives_a_kill_at_each_instruction,
                                  a_stack_survives_a_kill_at_each_instruction,
                                  a_priority_queue_survives_a_kill_at_each_instruction,
                                  queues_survive_a_kill_along_a_call_that_waits_in_vain,
                                  queues_survive_the_kill_of_one_that_mends,
                                  sleepers_wake_though_the_one_that_would_wake_them_is_killed,
                                  queues_survive_the_kill_of_one_that_closes,
                                  a_queue_is_there_or_not_if_its_maker_is_killed,
                                  sleepers_that_are_killed_do_not_stop_the_others,
                                  a_fifo_queue_outlives_kills_at_random_moments,
                                  a_stack_outlives_kills_at_random_moments,
                                  a_priority_queue_outlives_kills_at_random_moments};
    size_t count = CAN_SHARE ? sizeof tests / sizeof tests[0] : 1;
    return testing_main(testing_suite("queue_kill", tests, count));
}
