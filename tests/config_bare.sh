#!/usr/bin/env bash
# config_bare.sh - MTASK_NO_THREADS and MTASK_CORO_NO_LOOP: coroutines and a queue in programs of one
# thread that allocate nothing, on this system and on processors that have none (in an emulator, with
# interrupts); and coroutines without loops in programs with threads.
# shellcheck source=tests/lib.sh
. "$(dirname "$0")/lib.sh"

# Where the programs below write to, and what time they have. Whatever allocates ends them.
cat >"$OUT/port.h" <<'END'
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
int64_t port_clock(void); /* nanoseconds */
void port_write(const char *text);
void port_exit(int code);
void *port_refuse(void);
extern volatile uint32_t port_ticks; /* counted up by an interrupt, each millisecond */
extern void (*volatile port_tick)(void); /* what that interrupt calls; NULL: nothing */
#ifdef __cplusplus
}
#endif

#define MTASK_CLOCK()          port_clock()
#define MTASK_MALLOC(size)     ((void)(size), port_refuse())
#define MTASK_REALLOC(p, size) ((void)(p), (void)(size), port_refuse())
#define MTASK_FREE(p)          ((void)(p), (void)port_refuse())
END

# The same on a system: a signal is the interrupt.
cat >"$OUT/port_system.c" <<'END'
#define _GNU_SOURCE
#include "port.h"
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

volatile uint32_t port_ticks;
void (*volatile port_tick)(void);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *p, size_t size);
void *__wrap_mmap(void *at, size_t size, int protection, int flags, int file, long offset);

int64_t port_clock(void) {
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

void port_write(const char *text) {
    (void)fputs(text, stdout);
    (void)fflush(stdout);
}

void port_exit(int code) {
    exit(code);
}

void *port_refuse(void) {
    port_write("it allocates\n");
    exit(1);
}

void *__wrap_malloc(size_t size) {
    (void)size;
    return port_refuse();
}

void *__wrap_calloc(size_t count, size_t size) {
    (void)count, (void)size;
    return port_refuse();
}

void *__wrap_realloc(void *p, size_t size) {
    (void)p, (void)size;
    return port_refuse();
}

void *__wrap_mmap(void *at, size_t size, int protection, int flags, int file, long offset) {
    (void)at, (void)size, (void)protection, (void)flags, (void)file, (void)offset;
    return port_refuse();
}

static void on_alarm(int number) {
    (void)number;
    port_ticks++;
    if (port_tick != NULL)
        port_tick();
}

static __attribute__((constructor)) void start_ticks(void) {
    struct itimerval each;
    struct sigaction action = {0};
    action.sa_handler = on_alarm;
    action.sa_flags = SA_RESTART;
    (void)sigaction(SIGALRM, &action, NULL);
    each.it_interval.tv_sec = each.it_value.tv_sec = 0;
    each.it_interval.tv_usec = each.it_value.tv_usec = 1000;
    (void)setitimer(ITIMER_REAL, &each, NULL);
}
END

# The same on a processor of the Cortex-M family, with nothing but a debugger (semihosting) outside.
cat >"$OUT/port_bare.c" <<'END'
#include "port.h"

#define REGISTER(address) (*(volatile uint32_t *)(address))

extern uint32_t data_begin, data_end, data_source, bss_begin, bss_end;
int main(void);
void reset(void);
void *_sbrk(ptrdiff_t size);
void _exit(int code);
volatile uint32_t port_ticks;
void (*volatile port_tick)(void);

static void ask_debugger(int what, const void *with) {
    register int r0 __asm__("r0") = what;
    register const void *r1 __asm__("r1") = with;
    __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
}

int64_t port_clock(void) {
    return (int64_t)port_ticks * 1000000;
}

void port_write(const char *text) {
    ask_debugger(4, text); /* SYS_WRITE0 */
}

void port_exit(int code) {
    for (;;)
        ask_debugger(0x18, (void *)(code == 0 ? 0x20026 : 0x20023)); /* SYS_EXIT */
}

void *port_refuse(void) {
    port_write("it allocates\n");
    port_exit(1);
    return NULL;
}

void *_sbrk(ptrdiff_t size) {
    (void)size;
    return port_refuse();
}

void _exit(int code) {
    port_exit(code);
    for (;;)
        ;
}

static void on_fault(void) {
    port_write("fault\n");
    port_exit(1);
}

static void on_tick(void) {
    port_ticks++;
    if (port_tick != NULL)
        port_tick();
}

void reset(void) {
    uint32_t *from = &data_source;
    for (uint32_t *to = &data_begin; to < &data_end; to++)
        *to = *from++;
    for (uint32_t *to = &bss_begin; to < &bss_end; to++)
        *to = 0;
#ifdef __ARM_FP
    REGISTER(0xe000ed88) = 0xf << 20; /* CPACR: the FPU may be used */
    __asm__ volatile("dsb\n\tisb");
#endif
    REGISTER(0xe000e014) = TICKS - 1; /* SysTick: how many cycles, */
    REGISTER(0xe000e018) = 0;
    REGISTER(0xe000e010) = 7; /* of the processor's clock, with its interrupt */
    port_exit(main());
}

extern char stack_end;
__attribute__((section(".vectors"), used)) const void *const vectors[16] = {
    &stack_end, (void *)reset, (void *)on_fault, (void *)on_fault, (void *)on_fault, (void *)on_fault,
    (void *)on_fault, 0, 0, 0, 0, (void *)on_fault, 0, 0, (void *)on_fault, (void *)on_tick};

/* Of Cortex-M0, that cannot read and modify at once: what gcc calls for that. */
#if defined(__ARM_ARCH_6M__)
# define ATOMIC(name, next)                                                                       \
  unsigned __atomic_##name##_4(volatile void *at, unsigned value, int order);                     \
  unsigned __atomic_##name##_4(volatile void *at, unsigned value, int order) {                    \
      unsigned masked, old;                                                                       \
      (void)order;                                                                                \
      __asm__ volatile("mrs %0, primask\n\tcpsid i" : "=r"(masked)::"memory");                    \
      old = *(volatile unsigned *)at;                                                             \
      *(volatile unsigned *)at = (next);                                                          \
      __asm__ volatile("msr primask, %0" ::"r"(masked) : "memory");                               \
      return old;                                                                                 \
  }
ATOMIC(exchange, value)
ATOMIC(fetch_add, old + value)
ATOMIC(fetch_sub, old - value)
ATOMIC(fetch_and, old &value)
ATOMIC(fetch_or, old | value)

_Bool __atomic_compare_exchange_4(volatile void *at, void *expected, unsigned value, _Bool weak,
                                  int success, int failure);
_Bool __atomic_compare_exchange_4(volatile void *at, void *expected, unsigned value, _Bool weak,
                                  int success, int failure) {
    unsigned masked, old;
    (void)weak, (void)success, (void)failure;
    __asm__ volatile("mrs %0, primask\n\tcpsid i" : "=r"(masked)::"memory");
    old = *(volatile unsigned *)at;
    if (old == *(unsigned *)expected)
        *(volatile unsigned *)at = value;
    __asm__ volatile("msr primask, %0" ::"r"(masked) : "memory");
    if (old == *(unsigned *)expected)
        return 1;
    *(unsigned *)expected = old;
    return 0;
}
#endif
END

# 256 KiB of flash, 16 KiB of RAM.
cat >"$OUT/bare.ld" <<'END'
ENTRY(reset)
MEMORY {
    flash (rx) : ORIGIN = 0, LENGTH = 256K
    ram (rwx) : ORIGIN = 0x20000000, LENGTH = 16K
}
SECTIONS {
    .text : { KEEP(*(.vectors)) *(.text .text.*) *(.rodata .rodata.*) . = ALIGN(4); } >flash
    .ARM.exidx : { *(.ARM.exidx*) } >flash
    data_source = LOADADDR(.data);
    .data : { data_begin = .; *(.data .data.*) . = ALIGN(4); data_end = .; } >ram AT>flash
    .bss : { bss_begin = .; *(.bss .bss.*) *(COMMON) . = ALIGN(4); bss_end = .; } >ram
    stack_end = ORIGIN(ram) + LENGTH(ram);
    ASSERT(stack_end - bss_end >= 2048, "no room for a stack")
}
END

# What both programs begin with.
cat >"$OUT/use.h" <<'END'
#include "port.h"
#define MTASK_IMPLEMENTATION
#include "mtask_coro.h"
#include "mtask_queue.h"

#ifndef STACK
# define STACK 16384
#endif
static char stacks[3][STACK] __attribute__((aligned(16)));

static __attribute__((format(printf, 1, 2))) void say(const char *format, ...) {
    static char line[120];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(line, sizeof line, format, args);
    va_end(args);
    port_write(line);
}

/* A coroutine on one of the stacks. */
static mtask_coro *make(int stack, mtask_fn fn, void *arg) {
    mtask_coro_desc desc;
    mtask_coro *coro;
    mtask_status status;
    memset(&desc, 0, sizeof desc);
    desc.fn = fn;
    desc.arg = arg;
    desc.stack = stacks[stack];
    desc.stack_size = STACK;
    status = mtask_coro_create_ex(&coro, &desc);
    if (status != MTASK_OK) {
        say("create: %s\n", mtask_status_name(status));
        port_exit(1);
    }
    return coro;
}

#define SHOW(call) say("%s: %s\n", #call, mtask_status_name(call))
END

# A tour of what remains without threads.
cat >"$OUT/tour.c" <<'END'
#include "use.h"

static void *count(void *to) {
    for (long i = 1; i <= *(long *)to; i++)
        if (mtask_coro_yield(&i, NULL) != MTASK_OK) {
            say("count: closed at %ld\n", i);
            break;
        }
    return NULL;
}

static void *evens(void *from) {
    MTASK_FOREACH(n, (mtask_coro *)from)
        if (*(long *)n % 2 == 0 && mtask_coro_yield(n, NULL) != MTASK_OK)
            break;
    return NULL;
}

static void *halves(void *from) {
    MTASK_FOREACH(n, (mtask_coro *)from) {
        double half = (double)*(long *)n / 2 + 0.25;
        if (mtask_coro_yield(&half, NULL) != MTASK_OK)
            break;
    }
    return NULL;
}

/* Generators from which generators take. */
static void pipeline(void) {
    long ten = 10;
    mtask_coro *a = make(0, count, &ten);
    mtask_coro *b = make(1, evens, a);
    mtask_coro *c = make(2, halves, b);
    double sum = 0;
    MTASK_FOREACH(half, c)
        sum += *(double *)half;
    say("pipeline: %ld quarters\n", (long)(4 * sum));
    SHOW(mtask_coro_destroy(c));
    SHOW(mtask_coro_destroy(b));
    SHOW(mtask_coro_destroy(a));
}

static void leave_early(void) {
    long many = 1000000;
    mtask_coro *a = make(0, count, &many);
    mtask_coro *b = make(1, evens, a);
    MTASK_FOREACH(n, b)
        if (*(long *)n == 6)
            break;
    SHOW(mtask_coro_destroy(b));
    SHOW(mtask_coro_close(b));
    SHOW(mtask_coro_close(a));
    SHOW(mtask_coro_resume(a, NULL, NULL));
    SHOW(mtask_coro_destroy(b));
    SHOW(mtask_coro_destroy(a));
}

static void *measure(void *arg) {
    mtask_coro_yield(arg, NULL);
    return mtask_fail(MTASK_BROKEN, "sensor %d is broken", 3);
}

static void failure(void) {
    mtask_coro *coro = make(0, measure, NULL);
    mtask_outcome outcome;
    SHOW(mtask_coro_resume(coro, NULL, NULL));
    SHOW(mtask_coro_resume(coro, NULL, NULL));
    SHOW(mtask_coro_outcome(coro, &outcome));
    say("%s: %s\n", mtask_status_name(outcome.status), outcome.text);
    SHOW(mtask_coro_destroy(coro));
}

static mtask_coro *players[2];

static void *play(void *other) {
    static int ball;
    while (ball < 1000) {
        ball++;
        if (mtask_coro_transfer(*(mtask_coro **)other, NULL, NULL) != MTASK_OK)
            return NULL;
    }
    return &ball;
}

static void greenlets(void) {
    void *ball = NULL;
    players[0] = make(0, play, &players[1]);
    players[1] = make(1, play, &players[0]);
    SHOW(mtask_coro_resume(players[0], NULL, &ball));
    say("greenlets: %d\n", *(int *)ball);
    for (int i = 0; i < 2; i++) {
        SHOW(mtask_coro_close(players[i]));
        SHOW(mtask_coro_destroy(players[i]));
    }
}

static mtask_queue queue;

static void *put(void *arg) {
    for (int i = 0; i < 1000; i++)
        while (mtask_queue_put(&queue, &i, MTASK_NOWAIT) != MTASK_OK)
            if (mtask_coro_yield(NULL, NULL) != MTASK_OK)
                return NULL;
    (void)mtask_queue_close(&queue);
    return arg;
}

static void *get(void *sum) {
    int item;
    mtask_status status;
    while ((status = mtask_queue_get(&queue, &item, MTASK_NOWAIT)) != MTASK_CLOSED) {
        if (status == MTASK_OK)
            *(long *)sum += item;
        else if (mtask_coro_yield(NULL, NULL) != MTASK_OK)
            break;
    }
    return NULL;
}

/* A queue in storage of the program, and those at its two ends, in turns. */
static void bounded_queue(void) {
    static MTASK_QUEUE_STORAGE(storage, 4, sizeof(int));
    mtask_queue_desc desc;
    mtask_coro *a, *b;
    long sum = 0;
    int item = 1;
    memset(&desc, 0, sizeof desc);
    desc.capacity = 4;
    desc.item_size = sizeof(int);
    desc.storage = storage;
    desc.storage_size = sizeof storage;
    SHOW(mtask_queue_init(&queue, &desc));
    SHOW(mtask_queue_get(&queue, &item, MTASK_FOREVER));
    SHOW(mtask_queue_get(&queue, &item, MTASK_MS(3)));
    a = make(0, put, NULL);
    b = make(1, get, &sum);
    while (mtask_coro_resume(b, NULL, NULL) == MTASK_OK)
        (void)mtask_coro_resume(a, NULL, NULL);
    say("queue: %ld\n", sum);
    SHOW(mtask_coro_destroy(a));
    SHOW(mtask_coro_destroy(b));
    SHOW(mtask_queue_deinit(&queue));
}

static void *wait_here(void *event) {
    SHOW(mtask_event_wait((mtask_event *)event, MTASK_FOREVER));
    return NULL;
}

/* Nobody else can end a wait, but the clock goes on. */
static void waits(void) {
    static mtask_mutex mutex;
    static mtask_event event;
    static mtask_sem sem;
    mtask_coro *coro = make(0, wait_here, &event);
    int64_t before = mtask_now();
    SHOW(mtask_mutex_lock(&mutex));
    SHOW(mtask_mutex_lock(&mutex));
    SHOW(mtask_mutex_lock_for(&mutex, MTASK_MS(3)));
    SHOW(mtask_sem_acquire(&sem, MTASK_FOREVER));
    SHOW(mtask_event_wait(&event, MTASK_MS(3)));
    SHOW(mtask_coro_resume(coro, NULL, NULL));
    SHOW(mtask_coro_destroy(coro));
    mtask_event_set(&event);
    SHOW(mtask_event_wait(&event, MTASK_FOREVER));
    SHOW(mtask_sleep(MTASK_MS(3)));
    say("%s\n", mtask_now() - before >= MTASK_MS(9) ? "in time" : "too early");
}

static void *nothing(void *arg) {
    return arg;
}

static void refusals(void) {
    mtask_coro *coro;
    mtask_coro_desc desc;
    mtask_local locals[17];
    mtask_shared_mutex shared;
    mtask_status status = MTASK_OK;
    memset(&desc, 0, sizeof desc);
    desc.fn = nothing;
    SHOW(mtask_coro_create(&coro, nothing, NULL));
    desc.stack = stacks[0];
    desc.stack_size = MTASK_CORO_STACK_MIN - 1;
    SHOW(mtask_coro_create_ex(&coro, &desc));
    SHOW(mtask_coro_yield(NULL, NULL));
    SHOW(mtask_shared_mutex_init(&shared));
    memset(locals, 0, sizeof locals);
    for (int i = 0; i < 17 && status == MTASK_OK; i++) {
        status = mtask_local_init(&locals[i], NULL);
        if (status == MTASK_OK &&
            (mtask_local_set(&locals[i], locals + i) != MTASK_OK || mtask_local_get(locals) != locals))
            say("locals: lost\n");
    }
    say("locals: %s\n", mtask_status_name(status));
    say("CPUs: %u\n", mtask_cpu_count());
}

int main(void) {
    pipeline();
    leave_early();
    failure();
    greenlets();
    bounded_queue();
    waits();
    refusals();
    return 0;
}
END

cat >"$OUT/tour.txt" <<'END'
END

# With MTASK_IDLE, waits are ended by interrupts.
cat >"$OUT/ticks.c" <<'END'
#if defined(__arm__)
# define MTASK_IDLE() __asm__ volatile("wfe")
#else
# define MTASK_IDLE() ((void)0)
#endif
#include "use.h"

#define TICKS_WANTED 300

static mtask_queue queue;
static mtask_event event;
static mtask_sem sem;
static volatile uint32_t produced, dropped;

/* In the interrupt. */
static void on_tick(void) {
    uint32_t item = produced;
    if (mtask_queue_put(&queue, &item, MTASK_NOWAIT) == MTASK_OK)
        produced = item + 1;
    else
        dropped = dropped + 1;
    (void)mtask_sem_release(&sem, 1);
    if (item % 10 == 0)
        mtask_event_set(&event);
}

/* Yields what the interrupt puts. */
static void *items(void *arg) {
    uint32_t item;
    while (mtask_queue_get(&queue, &item, MTASK_FOREVER) == MTASK_OK)
        if (mtask_coro_yield(&item, NULL) != MTASK_OK)
            break;
    return arg;
}

static void consume(mtask_coro *coro) {
    uint32_t next = 0;
    while (next < TICKS_WANTED) {
        void *item;
        if (!mtask_coro_next(coro, &item) || *(uint32_t *)item != next++)
            say("item %lu: lost\n", (unsigned long)next);
        if (mtask_sem_acquire(&sem, MTASK_FOREVER) != MTASK_OK)
            say("semaphore: lost\n");
        if (next % 10 == 1 && mtask_event_wait(&event, MTASK_FOREVER) == MTASK_OK)
            mtask_event_clear(&event);
    }
}

int main(void) {
    static MTASK_QUEUE_STORAGE(storage, 4, sizeof(uint32_t));
    mtask_queue_desc desc;
    mtask_coro *coro;
    memset(&desc, 0, sizeof desc);
    desc.capacity = 4;
    desc.item_size = sizeof(uint32_t);
    desc.storage = storage;
    desc.storage_size = sizeof storage;
    SHOW(mtask_queue_init(&queue, &desc));
    coro = make(0, items, NULL);
    port_tick = on_tick;
    consume(coro);
    port_tick = NULL;
    SHOW(mtask_coro_close(coro));
    SHOW(mtask_coro_destroy(coro));
    say("%d ticks\n", TICKS_WANTED);
    return 0;
}
END

bare="-std=c11 -ffunction-sections -fdata-sections -DMTASK_NO_THREADS -DMTASK_CORO_NO_LOOP -DMTASK_NO_STB_DS"

# tell PROGRAM WANTED COMMAND...: what the command prints must be what is wanted.
tell() {
    local wanted=$1
    shift
    "$@" >"$OUT/told.txt" 2>&1 </dev/null || echo "exit code $?" >>"$OUT/told.txt"
    diff "$wanted" "$OUT/told.txt"
}
