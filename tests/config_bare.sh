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
        ask_debugger(0x18, (void *)(code == 0 ? 0x20026 : 0x20023)); /* SYS_EXIT: why */
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

void stack_end(void); /* an address, not a function */
__attribute__((section(".vectors"), used)) void (*const vectors[16])(void) = {
    stack_end, reset,    on_fault, on_fault, on_fault, on_fault, on_fault, NULL,
    NULL,      NULL,     NULL,     on_fault, NULL,     NULL,     on_fault, on_tick};

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

/* Lets others run, if it is called in a coroutine. */
static __attribute__((noinline, used)) void let_run(void) {
    if (mtask_coro_current() != NULL)
        (void)mtask_coro_yield(NULL, NULL);
}

/* Fifteen times the seed, part by part in registers that compilers seldom use, while others run. */
static unsigned times_15(unsigned seed) {
#if defined(__arm__)
    __asm__ volatile("mov r8, %0\n\tmov r9, r8\n\tadd r9, r8\n\tmov r10, r9\n\tadd r10, r9\n\t"
                     "mov r11, r10\n\tadd r11, r10\n\tbl let_run\n\t"
                     "mov %0, r8\n\tadd %0, r9\n\tadd %0, r10\n\tadd %0, r11"
                     : "+l"(seed)::"r0", "r1", "r2", "r3", "r8", "r9", "r10", "r11", "r12", "lr",
                     "cc", "memory");
    return seed;
#else
    let_run();
    return 15 * seed;
#endif
}

/* More values than there are registers to keep, while others run. */
static __attribute__((noinline)) unsigned mix(unsigned seed) {
    unsigned a = seed, b = seed * 3, c = seed * 5, d = seed * 7, e = seed * 11, f = seed * 13;
    float x = (float)(seed % 100), y = x + 1, z = x + 2;
    for (int round = 0; round < 8; round++) {
        a += times_15(b);
        let_run();
        b ^= c + a, c += d ^ b, d ^= e + c, e += f ^ d, f ^= a + e;
        x = y * 0.5f + z, y = z * 0.5f + x, z = x * 0.25f + y;
    }
    return a ^ b ^ c ^ d ^ e ^ f ^ (unsigned)(x + y + z);
}

static void *mix_here(void *seed) {
    *(unsigned *)seed = mix(*(unsigned *)seed);
    return NULL;
}

static void registers(void) {
    unsigned seeds[2] = {12345, 67890};
    mtask_coro *a = make(0, mix_here, &seeds[0]);
    mtask_coro *b = make(1, mix_here, &seeds[1]);
    while (mtask_coro_resume(a, NULL, NULL) == MTASK_OK)
        (void)mtask_coro_resume(b, NULL, NULL);
    (void)mtask_coro_resume(b, NULL, NULL);
    say("registers: %s\n",
        seeds[0] == mix(12345) && seeds[1] == mix(67890) ? "kept" : "lost");
    SHOW(mtask_coro_destroy(a));
    SHOW(mtask_coro_destroy(b));
}
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
    registers();
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
registers: kept
mtask_coro_destroy(a): MTASK_OK
mtask_coro_destroy(b): MTASK_OK
pipeline: 65 quarters
mtask_coro_destroy(c): MTASK_OK
mtask_coro_destroy(b): MTASK_OK
mtask_coro_destroy(a): MTASK_OK
mtask_coro_destroy(b): MTASK_INVALID
mtask_coro_close(b): MTASK_OK
count: closed at 6
mtask_coro_close(a): MTASK_OK
mtask_coro_resume(a, NULL, NULL): MTASK_CLOSED
mtask_coro_destroy(b): MTASK_OK
mtask_coro_destroy(a): MTASK_OK
mtask_coro_resume(coro, NULL, NULL): MTASK_OK
mtask_coro_resume(coro, NULL, NULL): MTASK_FAILED
mtask_coro_outcome(coro, &outcome): MTASK_FAILED
MTASK_BROKEN: sensor 3 is broken
mtask_coro_destroy(coro): MTASK_OK
mtask_coro_resume(players[0], NULL, &ball): MTASK_DONE
greenlets: 1000
mtask_coro_close(players[i]): MTASK_OK
mtask_coro_destroy(players[i]): MTASK_OK
mtask_coro_close(players[i]): MTASK_OK
mtask_coro_destroy(players[i]): MTASK_OK
mtask_queue_init(&queue, &desc): MTASK_OK
mtask_queue_get(&queue, &item, MTASK_FOREVER): MTASK_DEADLOCK
mtask_queue_get(&queue, &item, MTASK_MS(3)): MTASK_EMPTY
queue: 499500
mtask_coro_destroy(a): MTASK_OK
mtask_coro_destroy(b): MTASK_OK
mtask_queue_deinit(&queue): MTASK_OK
mtask_mutex_lock(&mutex): MTASK_OK
mtask_mutex_lock(&mutex): MTASK_DEADLOCK
mtask_mutex_lock_for(&mutex, MTASK_MS(3)): MTASK_TIMEOUT
mtask_sem_acquire(&sem, MTASK_FOREVER): MTASK_DEADLOCK
mtask_event_wait(&event, MTASK_MS(3)): MTASK_TIMEOUT
mtask_event_wait((mtask_event *)event, MTASK_FOREVER): MTASK_DEADLOCK
mtask_coro_resume(coro, NULL, NULL): MTASK_DONE
mtask_coro_destroy(coro): MTASK_OK
mtask_event_wait(&event, MTASK_FOREVER): MTASK_OK
mtask_sleep(MTASK_MS(3)): MTASK_OK
in time
mtask_coro_create(&coro, nothing, NULL): MTASK_UNSUPPORTED
mtask_coro_create_ex(&coro, &desc): MTASK_INVALID
mtask_coro_yield(NULL, NULL): MTASK_INVALID
mtask_shared_mutex_init(&shared): MTASK_UNSUPPORTED
locals: MTASK_NOMEM
CPUs: 1
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

/* Yields what the interrupt puts; waits for each other item, and looks again and again for the rest,
   so that most interrupts come in the middle of a get. */
static void *items(void *arg) {
    uint32_t item = 0;
    mtask_status status = MTASK_OK;
    while (status == MTASK_OK || status == MTASK_EMPTY) {
        status = mtask_queue_get(&queue, &item, item % 2 == 0 ? MTASK_FOREVER : MTASK_NOWAIT);
        if (status == MTASK_OK)
            status = mtask_coro_yield(&item, NULL);
    }
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
    registers();
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

cat >"$OUT/ticks.txt" <<'END'
registers: kept
mtask_coro_destroy(a): MTASK_OK
mtask_coro_destroy(b): MTASK_OK
mtask_queue_init(&queue, &desc): MTASK_OK
mtask_coro_close(coro): MTASK_OK
mtask_coro_destroy(coro): MTASK_OK
300 ticks
END

# Coroutines without loops, in a program with threads: each thread has generators of its own, and one
# goes from thread to thread.
cat >"$OUT/threads.c" <<'END'
#define MTASK_IMPLEMENTATION
#include "mtask_coro.h"

static void *count(void *to) {
    for (long i = 1; i <= *(long *)to; i++)
        if (mtask_coro_yield(&i, NULL) != MTASK_OK)
            return mtask_fail(MTASK_CANCELED, NULL);
    return NULL;
}

static void *evens(void *from) {
    MTASK_FOREACH(n, (mtask_coro *)from)
        if (*(long *)n % 2 == 0 && mtask_coro_yield(n, NULL) != MTASK_OK)
            break;
    return NULL;
}

static void *sum(void *to) {
    static char stacks[4][32768] __attribute__((aligned(16)));
    static mtask_word taken;
    mtask_coro_desc desc;
    mtask_coro *a, *b;
    long result = 0;
    memset(&desc, 0, sizeof desc);
    desc.fn = evens;
    desc.stack = stacks[mtask_word_add(&taken, 1)];
    desc.stack_size = sizeof stacks[0];
    if (mtask_coro_create(&a, count, to) != MTASK_OK)
        return mtask_fail(MTASK_NOMEM, NULL);
    desc.arg = a;
    if (mtask_coro_create_ex(&b, &desc) != MTASK_OK)
        return mtask_fail(MTASK_NOMEM, NULL);
    MTASK_FOREACH(n, b)
        result += *(long *)n;
    if (mtask_coro_destroy(b) != MTASK_OK || mtask_coro_destroy(a) != MTASK_OK)
        return mtask_fail(MTASK_INVALID, NULL);
    return (void *)result;
}

static void *ten_more(void *from) {
    long last = 0;
    void *n;
    for (int i = 0; i < 10 && mtask_coro_next((mtask_coro *)from, &n); i++)
        last = *(long *)n;
    return (void *)last;
}

static long run(mtask_fn fn, void *arg) {
    mtask_thread thread;
    mtask_outcome outcome;
    memset(&thread, 0, sizeof thread);
    if (mtask_thread_start(&thread, fn, arg) != MTASK_OK ||
        mtask_thread_join(&thread, &outcome, MTASK_FOREVER) != MTASK_OK)
        return -1;
    return (long)outcome.value;
}

static int in_threads(void) {
    mtask_thread threads[4];
    long ten_thousand = 10000;
    int result = 0;
    memset(threads, 0, sizeof threads);
    for (int i = 0; i < 4; i++)
        if (mtask_thread_start(&threads[i], sum, &ten_thousand) != MTASK_OK)
            return 1;
    for (int i = 0; i < 4; i++) {
        mtask_outcome outcome;
        if (mtask_thread_join(&threads[i], &outcome, MTASK_FOREVER) != MTASK_OK ||
            (long)outcome.value != 25005000)
            result = 2;
    }
    return result;
}

int main(void) {
    mtask_coro *coro;
    long million = 1000000;
    if (mtask_coro_create(&coro, count, &million) != MTASK_OK)
        return 3;
    if (run(ten_more, coro) != 10 || run(ten_more, coro) != 20 || (long)ten_more(coro) != 30)
        return 4;
    if (mtask_coro_close(coro) != MTASK_OK || mtask_coro_destroy(coro) != MTASK_OK)
        return 5;
    return mtask_coro_stacks().in_use != 0 ? 6 : in_threads();
}
END

# tell NAME WANTED COMMAND...: the command must print what the file holds.
tell() {
    local name=$1 wanted=$2
    shift 2
    # shellcheck disable=SC2016 # these are for the inner shell
    try "$name" bash -c 'set -o pipefail; wanted=$1; shift; "$@" 2>&1 </dev/null | diff "$wanted" -' \
        _ "$wanted" "$@"
}

common="-DMTASK_NO_THREADS -DMTASK_CORO_NO_LOOP -DMTASK_NO_STB_DS -I. -I$OUT"
nothing_else="-ffunction-sections -fdata-sections -Wl,--gc-sections"
refused="-Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=mmap"

# system PROGRAM COMPILER OPTIONS...: on this system.
system() {
    local program=$1
    shift
    # shellcheck disable=SC2086 # lists of words
    try "$program, $*" "$@" $WARN $common $nothing_else $refused -o "$OUT/$program" \
        "$OUT/$program.c" -x none "$OUT/port_system.o" &&
        tell "$program, $*: run" "$OUT/$program.txt" "$OUT/$program"
}

# bare PROGRAM MACHINE FLAGS...: on a processor of its own, with 256 KiB of flash and 16 KiB of RAM.
bare() {
    local program=$1 machine=$2
    shift 2
    # shellcheck disable=SC2086
    try "$program, $*" arm-none-eabi-gcc "$@" -mthumb -std=c11 -Os $WARN $common -DSTACK=2048 \
        -DTICKS=10000 $nothing_else -nostartfiles --specs=nano.specs -T "$OUT/bare.ld" \
        -o "$OUT/$program.elf" "$OUT/$program.c" "$OUT/port_bare.c" &&
        tell "$program, $*: run" "$OUT/$program.txt" qemu-system-arm -M "$machine" -display none \
            -monitor none -serial none -semihosting-config enable=on,target=native \
            -kernel "$OUT/$program.elf"
}

# threads COMPILER OPTIONS...: with threads, on this system.
threads() {
    # shellcheck disable=SC2086
    try "threads, $*" "$@" $WARN -DMTASK_CORO_NO_LOOP -I. -pthread -o "$OUT/threads" \
        "$OUT/threads.c" && try "threads, $*: run" "$OUT/threads"
}

# shellcheck disable=SC2086
try "port" gcc -std=c11 $WARN -O1 -c -o "$OUT/port_system.o" "$OUT/port_system.c"
system tour gcc -std=c11 -O2
system tour gcc -std=c11 -O0 -DMTASK_CORO_UCONTEXT -D_GNU_SOURCE
system tour gcc -std=c11 -O1 -DMTASK_STATIC -DMTASK_CORO_CHECK=1
system tour clang -std=c11 -O0 -DMTASK_CORO_NO_FPU
system tour g++ -x c++ -std=c++11 -O0
system tour clang++ -x c++ -std=c++20 -O0
system ticks gcc -std=c11 -O1
system ticks clang -std=c11 -O0
bare ticks microbit -mcpu=cortex-m0
bare tour mps2-an385 -mcpu=cortex-m3
bare ticks mps2-an385 -mcpu=cortex-m3
bare tour mps2-an386 -mcpu=cortex-m4 -mfloat-abi=hard -mfpu=fpv4-sp-d16
threads gcc -std=c11 -O1
threads gcc -std=c11 -O0 -DMTASK_CORO_UCONTEXT
threads clang -std=c11 -O0 -DMTASK_STATIC -DMTASK_CORO_CHECK=1 -DMTASK_CORO_CENSUS=1
threads g++ -x c++ -std=c++20 -O0
finish
