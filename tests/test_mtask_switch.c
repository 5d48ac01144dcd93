/* test_mtask_switch.c - the switch as a matter of the ABI: whatever a function may rely on across a
   call, it may rely on across a resume and a yield, also where those stand inline in it

   testing-ldflags: -lm */
#include "testing_coro.h"

#include <alloca.h>
#include <errno.h>
#include <fenv.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>

#define NOINLINE __attribute__((noinline))
#define INLINED  static inline __attribute__((always_inline, unused))

#if defined(__x86_64__) && defined(__LP64__)
# define ON_X86_64 1
#else
# define ON_X86_64 0
#endif
#if ON_X86_64 && MTASK_CORO_MXCSR
# define MXCSR_IS_KEPT 1 /* all of it */
#else
# define MXCSR_IS_KEPT 0
#endif

static mtask_coro *ring[4]; /* who transfer to each other */

/* ---- turns: what a function does between two steps of its work ---- */

typedef void (*turn_fn)(void);

INLINED void turn_by_yield(void) {
    testing_check(mtask_coro_yield(NULL, NULL) == MTASK_OK);
}

/* The same work without any switch. */
INLINED void turn_by_nothing(void) {
    __asm__ volatile("" ::: "memory");
}

/* Yields, but nobody can look into it. */
static NOINLINE void turn_by_call(void) {
    turn_by_yield();
}

/* Resumes until it has ended, with `between` in between; what it returned. Destroys it. */
static void *finish(mtask_coro *coro, turn_fn between) {
    mtask_status status;
    void *out = NULL;
    while ((status = mtask_coro_resume(coro, NULL, &out)) == MTASK_OK)
        between();
    ck_assert_status(status, MTASK_DONE);
    end_coro(coro);
    return out;
}

/* ---- many values of many kinds that live across each turn ----

   All arithmetic on them is exact, so that it does not matter how the compiler arranges it. */

typedef uint32_t four_words __attribute__((vector_size(16)));
typedef double two_doubles __attribute__((vector_size(16)));

/* Integers modulo 2^20, as doubles and the like. */
#define WRAP(type, x) ((x) - (type)(int64_t)((x) / (type)1048576) * (type)1048576)

typedef struct digest {
    uint64_t value;
} digest;

INLINED void digest_add(digest *sum, uint64_t value) {
    sum->value = (sum->value ^ value) * UINT64_C(0x100000001b3) + (value >> 29);
}

INLINED uint64_t work_on_integers(uint64_t seed, int turns, turn_fn turn) {
    uint64_t a = seed, b = a * 3 + 1, c = b * 5 + 1, d = c * 7 + 1, e = d * 9 + 1, f = e * 11 + 1;
    uint32_t g = (uint32_t)(a >> 9), h = (uint32_t)(b >> 9), i = (uint32_t)(c >> 9);
    uint16_t j = (uint16_t)d, k = (uint16_t)e;
    uint8_t l = (uint8_t)f;
    bool m = (f & 1) != 0;
    digest sum = {seed};
    for (int n = 0; n < turns; n++) {
        turn();
        a += b ^ (uint64_t)n, b += c ^ a >> 7, c += d ^ b << 3, d += e ^ c >> 11;
        turn();
        e += f ^ d, f += a ^ e >> 3, g += h ^ i, h += i ^ g >> 5, i += (uint32_t)f ^ h;
        turn();
        j = (uint16_t)(j + k + g), k = (uint16_t)(k ^ j ^ h), l = (uint8_t)(l * 5 + (m ? 3 : 1));
        m = (l & 4) != 0;
    }
    digest_add(&sum, a ^ b * 3 ^ c * 5 ^ d * 7 ^ e * 9 ^ f * 11);
    digest_add(&sum, g + (uint64_t)h * 3 + (uint64_t)i * 5 + j + k + l + m);
    return sum.value;
}

INLINED uint64_t work_on_numbers(uint64_t seed, int turns, turn_fn turn) {
    double a = (double)(seed & 0xfffff), b = a + 1, c = b + 2, d = c + 3, e = d + 4, f = e + 5;
    float g = (float)(seed & 0x3ff), h = g + 1, i = h + 2;
    long double j = a + 7, k = b + 11, l = c + 13;
    digest sum = {seed};
    for (int n = 0; n < turns; n++) {
        a = WRAP(double, a * 3 + b), b = WRAP(double, b + c), c = WRAP(double, c * 5 + d);
        turn();
        d = WRAP(double, d + e), e = WRAP(double, e * 7 + f), f = WRAP(double, f + a + n);
        g = g + h > 4000 ? h : g + h;
        turn();
        h = h + i > 4000 ? i : h + i;
        i = i + 3 > 4000 ? 1 : i + 3;
        j = WRAP(long double, j * 3 + k), k = WRAP(long double, k + l);
        turn();
        l = WRAP(long double, l * 5 + (long double)a);
    }
    digest_add(&sum, (uint64_t)(a + b * 2 + c * 3 + d * 4 + e * 5 + f * 6));
    digest_add(&sum, (uint64_t)(g + h * 2 + i * 3) + (uint64_t)(j + k * 2 + l * 3));
    return sum.value;
}

INLINED uint64_t work_on_vectors(uint64_t seed, int turns, turn_fn turn) {
    uint32_t low = (uint32_t)seed, high = (uint32_t)(seed >> 32);
    four_words a = {low, high, low ^ 5, high ^ 5}, b = a * 3, c = b * 5, d = c * 7, e = d * 9;
    two_doubles f = {(double)(low & 0xff), (double)(high & 0xff)}, g = f + 1, h = g + 2;
    digest sum = {seed};
    for (int n = 0; n < turns; n++) {
        a += b ^ c, b += c ^ d >> 3, c += d ^ a;
        turn();
        d += e ^ b >> 7, e += a ^ (uint32_t)n;
        f += g - h;
        turn();
        g = h + 1, h = h + 2;
    }
    a ^= b ^ c ^ d ^ e;
    f += g + h;
    digest_add(&sum, (uint64_t)a[0] << 32 | a[1]);
    digest_add(&sum, (uint64_t)a[2] << 32 | a[3]);
    digest_add(&sum, (uint64_t)(int64_t)(f[0] * 16 + f[1]));
    return sum.value;
}

enum { TURNS = 40, WORKS = 3 };

/* Each kind of work in three ways: straight, with yields in the middle of it, with calls that
   yield. */
#define DEFINE_WORK(kind)                                                                          \
 static NOINLINE uint64_t kind##_straight(uint64_t seed) {                                         \
  return work_on_##kind(seed, TURNS, turn_by_nothing);                                             \
 }                                                                                                 \
 static NOINLINE uint64_t kind##_yielding(uint64_t seed) {                                         \
  return work_on_##kind(seed, TURNS, turn_by_yield);                                               \
 }                                                                                                 \
 static NOINLINE uint64_t kind##_calling(uint64_t seed) {                                          \
  return work_on_##kind(seed, TURNS, turn_by_call);                                                \
 }

DEFINE_WORK(integers)
DEFINE_WORK(numbers)
DEFINE_WORK(vectors)

typedef uint64_t (*work_fn)(uint64_t seed);

static const work_fn straight[WORKS] = {integers_straight, numbers_straight, vectors_straight};
static const work_fn yielding[2 * WORKS] = {integers_yielding, numbers_yielding, vectors_yielding,
                                            integers_calling,  numbers_calling,  vectors_calling};

/* What a coroutine works on. */
typedef struct worker {
    work_fn work;
    uint64_t seed;
    uint64_t result;
} worker;

static void *do_work(void *arg) {
    worker *self = (worker *)arg;
    self->result = self->work(self->seed);
    return arg;
}

START_TEST(values_live_across_yields) {
    for (int i = 0; i < 2 * WORKS; i++) {
        worker one = {yielding[i], 12345u + (uint64_t)i, 0}, two = {yielding[i], 99, 0};
        mtask_coro *first = open_coro(do_work, &one), *second = open_coro(do_work, &two);
        while (mtask_coro_next(first, NULL)) /* in turns: so each finds the other's registers */
            (void)mtask_coro_next(second, NULL);
        (void)finish(second, turn_by_nothing);
        end_coro(first);
        ck_assert_uint_eq(one.result, straight[i % WORKS](one.seed));
        ck_assert_uint_eq(two.result, straight[i % WORKS](two.seed));
    }
}
END_TEST

/* The generator whose resumes are the turns of a function's own work, until that is enough. */
static mtask_coro *turning;
static bool enough;

INLINED void turn_by_resume(void) {
    testing_check(mtask_coro_resume(turning, NULL, NULL) == MTASK_OK);
}

static NOINLINE uint64_t integers_resuming(uint64_t seed) {
    return work_on_integers(seed, TURNS, turn_by_resume);
}

static NOINLINE uint64_t numbers_resuming(uint64_t seed) {
    return work_on_numbers(seed, TURNS, turn_by_resume);
}

static NOINLINE uint64_t vectors_resuming(uint64_t seed) {
    return work_on_vectors(seed, TURNS, turn_by_resume);
}

/* Has other values in all registers each time it yields. */
static void *keep_working(void *arg) {
    for (uint64_t seed = 1; !enough; seed++)
        for (int i = 0; i < WORKS; i++)
            (void)yielding[i](seed);
    return arg;
}

START_TEST(values_live_across_resumes) {
    static const work_fn resuming[WORKS] = {integers_resuming, numbers_resuming, vectors_resuming};
    for (int i = 0; i < WORKS; i++) {
        turning = open_coro(keep_working, NULL);
        enough = false;
        for (uint64_t seed = 1; seed <= 5; seed++)
            ck_assert_uint_eq(resuming[i](seed), straight[i](seed));
        enough = true;
        (void)finish(turning, turn_by_nothing);
    }
}
END_TEST

/* ---- the very registers that a function must preserve (x86-64) ---- */

#if ON_X86_64
enum { KEPT = 6 };

/* Calls fn(arg) with in[] in rbx, rbp, r12 to r15; out[] is what they hold when it has returned. */
void call_with_registers(void (*fn)(void *arg), void *arg, const uint64_t *in, uint64_t *out);
__asm__(".text\n"
        ".type call_with_registers, @function\n"
        "call_with_registers:\n\t"
        "pushq %rbx\n\tpushq %rbp\n\tpushq %r12\n\tpushq %r13\n\tpushq %r14\n\tpushq %r15\n\t"
        "pushq %rcx\n\t"
        "movq %rdi, %rax\n\t"
        "movq %rsi, %rdi\n\t"
        "movq 0(%rdx), %rbx\n\tmovq 8(%rdx), %rbp\n\tmovq 16(%rdx), %r12\n\t"
        "movq 24(%rdx), %r13\n\tmovq 32(%rdx), %r14\n\tmovq 40(%rdx), %r15\n\t"
        "callq *%rax\n\t"
        "popq %rcx\n\t"
        "movq %rbx, 0(%rcx)\n\tmovq %rbp, 8(%rcx)\n\tmovq %r12, 16(%rcx)\n\t"
        "movq %r13, 24(%rcx)\n\tmovq %r14, 32(%rcx)\n\tmovq %r15, 40(%rcx)\n\t"
        "popq %r15\n\tpopq %r14\n\tpopq %r13\n\tpopq %r12\n\tpopq %rbp\n\tpopq %rbx\n\t"
        "retq\n"
        ".size call_with_registers, .-call_with_registers\n");

/* Fails the test unless fn(arg) keeps them, whatever they hold. */
static void check_registers(void (*fn)(void *arg), void *arg, testing_random *random) {
    uint64_t in[KEPT], out[KEPT];
    for (int i = 0; i < KEPT; i++) {
        in[i] = testing_next(random);
        out[i] = 0;
    }
    call_with_registers(fn, arg, in, out);
    testing_check(memcmp(in, out, sizeof in) == 0);
}

static void yield_once(void *arg) {
    (void)arg;
    turn_by_yield();
}

static void resume_once(void *arg) {
    testing_check(mtask_coro_resume((mtask_coro *)arg, NULL, NULL) == MTASK_OK);
}

static void resume_to_end(void *arg) {
    testing_check(mtask_coro_resume((mtask_coro *)arg, NULL, NULL) == MTASK_DONE);
}

static void *check_yields(void *arg) {
    testing_random random = testing_random_make(*(uint64_t *)arg, 1);
    for (int i = 0; i < 100; i++)
        check_registers(yield_once, NULL, &random);
    return arg;
}

START_TEST(preserved_registers_are_preserved) {
    uint64_t seed = testing_seed();
    testing_random random = testing_random_make(seed, 0);
    mtask_coro *coro = open_coro(check_yields, &seed);
    for (int i = 0; i < 100; i++)
        check_registers(resume_once, coro, &random);
    check_registers(resume_to_end, coro, &random);
    end_coro(coro);
}
END_TEST

static void transfer_to(void *arg) {
    testing_check(mtask_coro_transfer((mtask_coro *)arg, NULL, NULL) == MTASK_OK);
}

/* Coroutines that hand over to each other, and the one that begins and ends it. */

static void *go_round(void *arg) {
    size_t self = (size_t)(uintptr_t)arg;
    testing_random random = testing_random_make(self + 1, 0);
    for (int i = 0; i < 100; i++)
        check_registers(transfer_to, ring[(self + 1) % 4], &random);
    return arg;
}

START_TEST(preserved_registers_are_preserved_by_transfer) {
    testing_random random = testing_random_make(testing_seed(), 0);
    for (size_t i = 0; i < 4; i++)
        ring[i] = open_coro(go_round, (void *)i);
    for (size_t i = 0; i < 4; i++) /* each has handed over a hundred times and ends in turn */
        check_registers(resume_to_end, ring[i], &random);
    for (size_t i = 0; i < 4; i++)
        end_coro(ring[i]);
}
END_TEST

static void *pass_on(void *arg) {
    transfer_to(arg);
    return arg;
}

/* Who resumed the one hears of the other. */
START_TEST(preserved_registers_are_those_of_who_resumed_the_first) {
    uint64_t seed = testing_seed();
    testing_random random = testing_random_make(seed, 0);
    mtask_coro *last = open_coro(check_yields, &seed), *first = open_coro(pass_on, last);
    check_registers(resume_once, first, &random);
    for (int i = 1; i < 100; i++)
        check_registers(resume_once, last, &random);
    check_registers(resume_to_end, last, &random);
    check_registers(resume_to_end, first, &random);
    end_coro(first);
    end_coro(last);
}
END_TEST
#endif

/* ---- what lies below the stack pointer: the red zone of functions that call nobody ---- */

/* Uses much stack, and leaves rubbish there. */
static NOINLINE void scribble(void) {
    volatile unsigned char rubbish[1500];
    for (size_t i = 0; i < sizeof rubbish; i++)
        rubbish[i] = (unsigned char)(i ^ 0xa5);
}

static void *scribble_and_yield(void *arg) {
    while (!enough) {
        scribble();
        (void)mtask_coro_yield(arg, NULL);
    }
    return arg;
}

enum { LEAF = 26 }; /* words: most of the red zone */

/* Nothing is called here but what is inline; so where that is so its variables lie in the red
   zone. */
INLINED void write_words(uint32_t *words, uint32_t seed) {
    for (uint32_t i = 0; i < LEAF; i++)
        words[i] = seed * i;
    __asm__ volatile("" : : "r"(words) : "memory"); /* they are in memory */
}

INLINED uint32_t compare_words(uint32_t *words, uint32_t seed) {
    uint32_t wrong = 0;
    __asm__ volatile("" : : "r"(words) : "memory");
    for (uint32_t i = 0; i < LEAF; i++)
        wrong |= words[i] ^ seed * i;
    return wrong;
}

static NOINLINE uint32_t leaf_that_resumes(mtask_coro *coro, uint32_t seed) {
    uint32_t words[LEAF];
    write_words(words, seed);
    if (mtask_coro_resume(coro, NULL, NULL) != MTASK_OK)
        return 1;
    if (mtask_coro_resume(coro, NULL, NULL) != MTASK_OK)
        return 2;
    return compare_words(words, seed);
}

static NOINLINE uint32_t leaf_that_yields(uint32_t seed) {
    uint32_t words[LEAF];
    write_words(words, seed);
    if (mtask_coro_yield(NULL, NULL) != MTASK_OK || mtask_coro_yield(NULL, NULL) != MTASK_OK)
        return 1;
    return compare_words(words, seed);
}

static void *run_leaves(void *arg) {
    for (uint32_t seed = 1; seed <= 100; seed++)
        testing_check(leaf_that_yields(seed) == 0);
    return arg;
}

START_TEST(leaf_functions_keep_their_red_zone) {
    mtask_coro *coro = open_coro(scribble_and_yield, NULL);
    enough = false;
    for (uint32_t seed = 1; seed <= 100; seed++) {
        ck_assert_uint_eq(leaf_that_resumes(coro, seed), 0);
        scribble();
    }
    enough = true;
    (void)finish(coro, turn_by_nothing);
    (void)finish(open_coro(run_leaves, NULL), scribble);
}
END_TEST

/* ---- stack that is not of fixed size ---- */

static NOINLINE void fill(unsigned char *bytes, size_t size, unsigned seed) {
    for (size_t i = 0; i < size; i++)
        bytes[i] = (unsigned char)(seed + i * 7);
}

static NOINLINE bool is_filled(const unsigned char *bytes, size_t size, unsigned seed) {
    for (size_t i = 0; i < size; i++)
        if (bytes[i] != (unsigned char)(seed + i * 7))
            return false;
    return true;
}

static void *use_alloca(void *arg) {
    unsigned char *blocks[20];
    for (unsigned i = 0; i < 20; i++) {
        blocks[i] = (unsigned char *)alloca(i * 37 + 1);
        fill(blocks[i], i * 37 + 1, i);
        turn_by_yield();
    }
    for (unsigned i = 0; i < 20; i++)
        testing_check(is_filled(blocks[i], i * 37 + 1, i));
    return arg;
}

/* Arrays whose sizes change with each turn, one inside the other's life. */
static void *use_arrays(void *arg) {
    for (unsigned n = 1; n <= 20; n++) {
        unsigned char outer[n * 29];
        fill(outer, sizeof outer, n);
        for (unsigned m = 1; m <= 3; m++) {
            unsigned char inner[n * m];
            fill(inner, sizeof inner, m);
            turn_by_yield();
            testing_check(is_filled(inner, sizeof inner, m));
        }
        testing_check(is_filled(outer, sizeof outer, n));
    }
    return arg;
}

/* An aligned variable, an array of unknown size, arguments in the stack: the compiler needs several
   pointers into its frame here, and keeps them in registers. */
static NOINLINE long use_aligned(long a, long b, long c, long d, long e, long f, long g, long h,
                                 size_t size) {
    _Alignas(64) unsigned char aligned[64];
    unsigned char array[size];
    fill(aligned, sizeof aligned, 1);
    fill(array, size, 2);
    turn_by_yield();
    testing_check(((uintptr_t)aligned & 63) == 0 && is_filled(aligned, sizeof aligned, 1));
    testing_check(is_filled(array, size, 2));
    return a + b * 2 + c * 3 + d * 4 + e * 5 + f * 6 + g * 7 + h * 8;
}

static void *use_aligned_often(void *arg) {
    for (long i = 0; i < 50; i++)
        testing_check(use_aligned(1 + i, 2, 3, 4, 5, 6, 7, 8, (size_t)(1 + i * 11)) == 204 + i);
    return arg;
}

START_TEST(frames_of_varying_size_stay_whole) {
    (void)finish(open_coro(use_alloca, NULL), scribble);
    (void)finish(open_coro(use_arrays, NULL), scribble);
    (void)finish(open_coro(use_aligned_often, NULL), scribble);
}
END_TEST

/* The same of the side that resumes. */
static NOINLINE void resume_amid_alloca(mtask_coro *coro) {
    unsigned char *blocks[20];
    for (unsigned i = 0; i < 20; i++) {
        blocks[i] = (unsigned char *)alloca(i * 37 + 1);
        fill(blocks[i], i * 37 + 1, i);
        testing_check(mtask_coro_next(coro, NULL));
    }
    for (unsigned i = 0; i < 20; i++)
        testing_check(is_filled(blocks[i], i * 37 + 1, i));
}

static NOINLINE void resume_amid_array(mtask_coro *coro, size_t size) {
    _Alignas(64) unsigned char aligned[64];
    unsigned char array[size];
    fill(aligned, sizeof aligned, 1);
    fill(array, size, 2);
    testing_check(mtask_coro_next(coro, NULL));
    testing_check(is_filled(aligned, sizeof aligned, 1) && is_filled(array, size, 2));
}

START_TEST(frames_of_varying_size_may_resume) {
    mtask_coro *coro = open_coro(scribble_and_yield, NULL);
    enough = false;
    resume_amid_alloca(coro);
    for (size_t size = 1; size < 500; size += 13)
        resume_amid_array(coro, size);
    enough = true;
    (void)finish(coro, turn_by_nothing);
}
END_TEST

/* ---- functions of variable arguments ---- */

/* Adds up `count` pairs of an int and a double, and yields between them. */
static NOINLINE double add_pairs(int count, ...) {
    double sum = 0;
    va_list args;
    va_start(args, count);
    for (int i = 0; i < count; i++) {
        int factor = va_arg(args, int);
        turn_by_yield();
        sum += factor * va_arg(args, double);
    }
    va_end(args);
    return sum;
}

static void *call_variadic(void *arg) {
    char line[200];
    for (int i = 0; i < 10; i++) {
        testing_check(add_pairs(7, 1, 1.5, 2, 2.5, 3, 3.5, 4, 4.5, 5, 5.5, 6, 6.5, 7, 7.5) == 154);
        snprintf(line, sizeof line, "%d %.3f %s %.1e %Lg %c %a", i, i / 8.0, "and", 1e100,
                 (long double)i, 'x', 1.0);
        turn_by_yield();
        testing_check(strtol(line, NULL, 10) == i);
        testing_check(strtod(line + 1, NULL) == i / 8.0);
        testing_check(strstr(line, " and 1.0e+100 ") != NULL && strstr(line, " x 0x1p+0"));
    }
    return arg;
}

START_TEST(variable_arguments_pass_in_coroutines) {
    ck_assert_ptr_eq(finish(open_coro(call_variadic, &enough), scribble), &enough);
}
END_TEST

/* Resumes in the middle of its arguments. */
static NOINLINE double resume_amid_arguments(mtask_coro *coro, int count, ...) {
    double sum = 0;
    va_list args;
    va_start(args, count);
    for (int i = 0; i < count; i++) {
        sum += va_arg(args, double);
        testing_check(mtask_coro_next(coro, NULL));
    }
    va_end(args);
    return sum;
}

/* More arguments than there are registers, all of them in use before and after. */
static NOINLINE double resume_amid_many(mtask_coro *coro, long a, long b, long c, long d, long e,
                                        long f, long g, long h, double i, double j, double k,
                                        double l, double m, double n, double o, double p, double q,
                                        double r) {
    double before = (double)(a + b * 2 + c * 3 + d * 4 + e * 5 + f * 6 + g * 7 + h * 8) + i + j * 2;
    double rest = k * 3 + l * 4 + m * 5 + n * 6 + o * 7 + p * 8 + q * 9 + r * 10, after;
    testing_check(mtask_coro_next(coro, NULL));
    after = (double)(a + b * 2 + c * 3 + d * 4 + e * 5 + f * 6 + g * 7 + h * 8) + i + j * 2;
    testing_check(mtask_coro_next(coro, NULL));
    return after + (k * 3 + l * 4 + m * 5 + n * 6 + o * 7 + p * 8 + q * 9 + r * 10) - rest +
           (after - before);
}

START_TEST(functions_of_many_arguments_may_resume) {
    mtask_coro *coro = open_coro(scribble_and_yield, NULL);
    enough = false;
    for (int i = 0; i < 20; i++) {
        ck_assert_double_eq(resume_amid_arguments(coro, 10, .5, 1., 2., 3., 4., 5., 6., 7., 8., 9.),
                            45.5);
        ck_assert_double_eq(
            resume_amid_many(coro, 1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10), 209);
    }
    enough = true;
    (void)finish(coro, turn_by_nothing);
}
END_TEST

/* ---- in the midst of expressions, and of functions that know nothing of coroutines ---- */

static void *count_up(void *arg) {
    for (long i = (long)(intptr_t)arg; !enough; i++)
        (void)mtask_coro_yield((void *)(intptr_t)i, NULL);
    return arg;
}

/* The generator's next number. */
INLINED long next_of(mtask_coro *coro) {
    void *out = NULL;
    testing_check(mtask_coro_resume(coro, NULL, &out) == MTASK_OK);
    return (long)(intptr_t)out;
}

static NOINLINE long three_of(long a, long b, long c) {
    return a * 100 + b * 10 + c;
}

START_TEST(a_switch_may_stand_in_an_expression) {
    mtask_coro *one = open_coro(count_up, NULL), *two = open_coro(count_up, (void *)100);
    long table[100] = {0}, x = 3;
    enough = false;
    for (long i = 0; i < 30; i++) {
        double y = 0.5;
        table[next_of(one)] += next_of(two) * x + three_of(i, x * 2, i != 0 ? i : 7);
        ck_assert_int_eq(table[2 * i], (100 + 2 * i) * x + three_of(i, x * 2, i != 0 ? i : 7));
        y = y * 2 - (double)next_of(one) * (y + (double)next_of(two));
        ck_assert_double_eq(y, 1 - (double)(2 * i + 1) * (double)(101 + 2 * i) -
                                   0.5 * (double)(2 * i + 1));
    }
    enough = true;
    (void)finish(one, turn_by_nothing);
    (void)finish(two, turn_by_nothing);
}
END_TEST

/* A comparison for qsort and bsearch that yields. */
static int compare_and_yield(const void *a, const void *b) {
    const int *x = (const int *)a;
    const int *y = (const int *)b;
    turn_by_yield();
    return (*x > *y) - (*x < *y);
}

static void *sort_numbers(void *arg) {
    int numbers[100], key = 37;
    for (int i = 0; i < 100; i++)
        numbers[i] = i * 37 % 101;
    qsort(numbers, 100, sizeof numbers[0], compare_and_yield);
    for (int i = 0; i < 99; i++)
        testing_check(numbers[i] < numbers[i + 1]);
    testing_check(bsearch(&key, numbers, 100, sizeof key, compare_and_yield) == &numbers[37]);
    return arg;
}

START_TEST(functions_of_others_may_call_what_yields) {
    mtask_coro *one = open_coro(sort_numbers, NULL), *two = open_coro(sort_numbers, NULL);
    long turns = 0;
    while (mtask_coro_next(one, NULL)) {
        turns++;
        (void)mtask_coro_next(two, NULL);
    }
    ck_assert_int_gt(turns, 100);
    (void)finish(two, scribble);
    end_coro(one);
}
END_TEST

/* ---- where a coroutine begins ---- */

/* In the middle of a page or at an odd address, whatever the caller gave. */
static void *look_at_frame(void *arg) {
    _Alignas(16) volatile unsigned char aligned[32] = {0};
    _Alignas(64) volatile double numbers[4] = {1, 2, 3, 4};
#if ON_X86_64 /* the frame pointer is saved just below the return address */
    testing_check(((uintptr_t)__builtin_frame_address(0) & 15) == 0);
#endif
    testing_check(((uintptr_t)aligned & 15) == 0 && ((uintptr_t)numbers & 63) == 0);
    turn_by_yield();
    testing_check(((uintptr_t)aligned & 15) == 0 && numbers[3] - numbers[0] > 2.5);
    return arg;
}

START_TEST(functions_begin_with_an_aligned_stack) {
    static unsigned char memory[65536 + 64];
    mtask_coro *own = open_coro(look_at_frame, &enough);
    ck_assert_ptr_eq(finish(own, scribble), &enough);
    for (size_t i = 0; i < 64; i++) {
        mtask_coro_desc desc = {.fn = look_at_frame, .stack = memory + i};
        mtask_coro *coro = NULL;
        desc.stack_size = 65536 - i * i % 61;
        ck_assert_status(mtask_coro_create_ex(&coro, &desc), MTASK_OK);
        (void)finish(coro, scribble);
    }
}
END_TEST

/* ---- deep stacks ---- */

/* Goes down as far as there is stack, and yields on the way there and back; how deep it was. */
static NOINLINE long descend(long depth, size_t reserve) {
    volatile long mark = depth;
    unsigned char frame[100];
    size_t left = mtask_coro_stack_left();
    long deepest = depth;
    fill(frame, sizeof frame, (unsigned)depth);
    turn_by_yield();
    if (left > reserve) {
        deepest = descend(depth + 1, reserve);
        testing_check(mtask_coro_stack_left() == left);
    }
    turn_by_yield();
    testing_check(mark == depth && is_filled(frame, sizeof frame, (unsigned)depth));
    return deepest;
}

static void *descend_deep(void *arg) {
    return (void *)(intptr_t)descend(0, 20000 + *(size_t *)arg);
}

START_TEST(coroutines_may_go_deep) {
    size_t reserves[4] = {0, 1000, 50000, 150000};
    mtask_coro *coros[4];
    long deepest[4];
    for (int i = 0; i < 4; i++)
        coros[i] = open_coro(descend_deep, &reserves[i]);
    for (int turn = 0; turn < 300; turn++)
        for (int i = 0; i < 4; i++)
            (void)mtask_coro_next(coros[i], NULL);
    for (int i = 0; i < 4; i++)
        deepest[i] = (long)(intptr_t)finish(coros[i], scribble);
    ck_assert_int_gt(deepest[0], 200);
    ck_assert_int_ge(deepest[0], deepest[1]);
    ck_assert_int_gt(deepest[1], deepest[2]);
    ck_assert_int_gt(deepest[2], deepest[3]);
}
END_TEST

/* ---- signals: they find a stack that they may use ---- */

static volatile sig_atomic_t signals;
static void *volatile signal_frame;
static volatile double signal_number;

/* Uses registers and stack as much as it likes. */
static void on_signal(int number) {
    scribble();
    for (int i = 0; i < 10; i++)
        signal_number = signal_number * 0.5 + number;
    signal_frame = __builtin_frame_address(0);
    signals = signals + 1;
}

static void handle_signals(int number, int flags) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_signal;
    action.sa_flags = SA_RESTART | flags;
    ck_assert_int_eq(sigaction(number, &action, NULL), 0);
}

static unsigned char given_stack[1 << 17], other_stack[1 << 16];

static bool lies_in(const void *address, const unsigned char *stack, size_t size) {
    return (uintptr_t)address - (uintptr_t)stack < size;
}

static void *raise_signals(void *arg) {
    double before = *(double *)arg, sum = 0;
    for (int i = 0; i < 10; i++) {
        testing_check(raise(SIGUSR1) == 0);
        sum += before;
        turn_by_yield();
    }
    testing_check(sum == 10 * before);
    return signal_frame;
}

static mtask_coro *open_given(mtask_fn fn, void *arg) {
    mtask_coro_desc desc = {.fn = fn, .arg = arg, .stack = given_stack};
    mtask_coro *coro = NULL;
    desc.stack_size = sizeof given_stack;
    ck_assert_status(mtask_coro_create_ex(&coro, &desc), MTASK_OK);
    return coro;
}

START_TEST(signal_handlers_run_on_the_stack_of_the_coroutine) {
    double number = 2.5;
    void *frame;
    handle_signals(SIGUSR1, 0);
    frame = finish(open_given(raise_signals, &number), scribble);
    ck_assert(lies_in(frame, given_stack, sizeof given_stack));
    ck_assert_int_eq(signals, 10);
}
END_TEST

START_TEST(signal_handlers_run_on_the_alternate_stack) {
    stack_t alternate = {.ss_sp = other_stack, .ss_size = sizeof other_stack};
    double number = 3.5;
    void *frame;
    ck_assert_int_eq(sigaltstack(&alternate, NULL), 0);
    handle_signals(SIGUSR1, SA_ONSTACK);
    frame = finish(open_given(raise_signals, &number), scribble);
    ck_assert(lies_in(frame, other_stack, sizeof other_stack));
    ck_assert_int_eq(signals, 10);
    alternate.ss_flags = SS_DISABLE;
    ck_assert_int_eq(sigaltstack(&alternate, NULL), 0);
}
END_TEST

/* Has SIGALRM come again and again, at any instruction; 0: no more. */
static void send_signals(long microseconds) {
    struct itimerval interval = {{0, microseconds}, {0, microseconds}};
    ck_assert_int_eq(setitimer(ITIMER_REAL, &interval, NULL), 0);
}

/* Works among leaf functions and coroutines until enough signals have come. */
static void work_among_signals(int flags) {
    char line[30]; /* where ThreadSanitizer lets a handler run: in a call of the C library */
    handle_signals(SIGALRM, flags);
    signals = 0;
    send_signals(100);
    for (int round = 0; round < 100000 && signals < 100; round++) {
        worker self = {yielding[round % (2 * WORKS)], (uint64_t)round, 0};
        (void)finish(open_coro(do_work, &self), turn_by_nothing);
        testing_check(self.result == straight[round % WORKS](self.seed));
        (void)finish(open_coro(run_leaves, NULL), turn_by_nothing);
        snprintf(line, sizeof line, "%d", round);
    }
    send_signals(0);
    ck_assert_int_gt(signals, 0);
}

START_TEST(signals_may_come_at_any_time) {
    stack_t alternate = {.ss_sp = other_stack, .ss_size = sizeof other_stack};
    work_among_signals(0);
    ck_assert_int_eq(sigaltstack(&alternate, NULL), 0);
    work_among_signals(SA_ONSTACK);
    alternate.ss_flags = SS_DISABLE;
    ck_assert_int_eq(sigaltstack(&alternate, NULL), 0);
}
END_TEST

/* ---- setjmp and longjmp within a coroutine ---- */

static NOINLINE void leap_from_below(jmp_buf place, int depth, int value) {
    turn_by_yield();
    if (depth > 0)
        leap_from_below(place, depth - 1, value);
    if (value > 0)
        longjmp(place, value);
}

static void *leap_often(void *arg) {
    jmp_buf place;
    volatile int turns = 0;
    volatile double number = 1;
    if (setjmp(place) < 10) {
        turns = turns + 1;
        number = number * 2;
        turn_by_yield();
        leap_from_below(place, 5, turns);
    }
    testing_check(turns == 10 && number == 1024);
    return arg;
}

START_TEST(longjmp_within_a_coroutine_is_as_anywhere) {
    mtask_coro *one = open_coro(leap_often, NULL), *two = open_coro(leap_often, NULL);
    while (mtask_coro_next(one, NULL)) {
        jmp_buf place; /* the resumer does the same */
        volatile int turns = 0;
        if (setjmp(place) < 3) {
            turns = turns + 1;
            (void)mtask_coro_next(two, NULL);
            longjmp(place, turns);
        }
        ck_assert_int_eq(turns, 3);
    }
    end_coro(one);
    end_coro(two); /* it was resumed more often, and has ended before */
}
END_TEST

static sigjmp_buf escape;

static void jump_out(int number) {
    siglongjmp(escape, number);
}

static void *leap_from_handlers(void *arg) {
    volatile int turns = 0;
    if (sigsetjmp(escape, 1) != 0)
        turns = turns + 1;
    turn_by_yield();
    if (turns < 10)
        (void)raise(SIGUSR2);
    testing_check(turns == 10);
    return arg;
}

START_TEST(a_handler_may_leave_by_siglongjmp) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = jump_out;
    ck_assert_int_eq(sigaction(SIGUSR2, &action, NULL), 0);
    ck_assert_ptr_eq(finish(open_coro(leap_from_handlers, &enough), scribble), &enough);
}
END_TEST

/* ---- modes of floating point: each coroutine, each task and its resumer have their own ---- */

#if defined(MTASK_CORO_NO_FPU) ||                                                                  \
    (defined(MTASK_CORO_UCONTEXT) && !defined(__x86_64__) && !defined(__i386__))
# define MODES_ARE_KEPT 0
#else
# define MODES_ARE_KEPT 1

enum { MODES = 4 };

static const int rounding[MODES] = {FE_TONEAREST, FE_UPWARD, FE_DOWNWARD, FE_TOWARDZERO};

/* What a third, positive and negative, comes to under the present mode, in all three types. */
typedef struct thirds {
    double numbers[2];
    float small[2];
    long double precise[2];
} thirds;

static NOINLINE thirds divide(void) {
    volatile double one = 1, three = 3;
    volatile float one_f = 1, three_f = 3;
    volatile long double one_l = 1, three_l = 3;
    thirds result;
    result.numbers[0] = one / three;
    result.numbers[1] = -one / three;
    result.small[0] = one_f / three_f;
    result.small[1] = -one_f / three_f;
    result.precise[0] = one_l / three_l;
    result.precise[1] = -one_l / three_l;
    return result;
}

static bool are_same(const thirds *a, const thirds *b) {
    bool same = true;
    for (int i = 0; i < 2; i++) {
        same &= !(a->numbers[i] < b->numbers[i]) && !(a->numbers[i] > b->numbers[i]);
        same &= !(a->small[i] < b->small[i]) && !(a->small[i] > b->small[i]);
        same &= !(a->precise[i] < b->precise[i]) && !(a->precise[i] > b->precise[i]);
    }
    return same;
}

/* Goes from one mode to the next, and finds each as it was after `turn`. */
static void round_and_turn(int first, turn_fn turn) {
    for (int i = first; i < first + 3 * MODES; i++) {
        thirds before, after;
        testing_check(fesetround(rounding[i % MODES]) == 0);
        before = divide();
        turn();
        after = divide();
        testing_check(fegetround() == rounding[i % MODES]);
        testing_check(are_same(&before, &after));
    }
}

static void *round_by_yield(void *arg) {
    round_and_turn(*(int *)arg, turn_by_call);
    return arg;
}

static void turn_by_resume_if_any(void) {
    (void)mtask_coro_next(turning, NULL);
}

START_TEST(rounding_is_kept_apart) {
    for (int mine = 0; mine < MODES; mine++)
        for (int its = 0; its < MODES; its++) {
            turning = open_coro(round_by_yield, &its);
            round_and_turn(mine, turn_by_resume_if_any);
            ck_assert_int_eq(fegetround(), rounding[(mine + 3 * MODES - 1) % MODES]);
            (void)finish(turning, turn_by_nothing);
            ck_assert_int_eq(fegetround(), rounding[(mine + 3 * MODES - 1) % MODES]);
        }
}
END_TEST

static void *tell_rounding(void *arg) {
    *(int *)arg = fegetround();
    testing_check(fesetround(FE_TOWARDZERO) == 0);
    return arg;
}

START_TEST(a_coroutine_begins_with_the_rounding_of_its_creator) {
    for (int i = 0; i < MODES; i++) {
        int seen = -1;
        mtask_coro *coro;
        ck_assert_int_eq(fesetround(rounding[i]), 0);
        coro = open_coro(tell_rounding, &seen);
        ck_assert_int_eq(fesetround(rounding[(i + 1) % MODES]), 0);
        (void)finish(coro, turn_by_nothing);
        ck_assert_int_eq(seen, rounding[i]);
        ck_assert_int_eq(fegetround(), rounding[(i + 1) % MODES]);
    }
}
END_TEST

static void turn_by_transfer(void) {
    static size_t at;
    at = (at + 1) % 4;
    testing_check(mtask_coro_transfer(ring[at], NULL, NULL) == MTASK_OK);
}

static void *round_by_transfer(void *arg) {
    round_and_turn(*(int *)arg, turn_by_transfer);
    return arg;
}

START_TEST(rounding_is_kept_apart_by_transfer) {
    int firsts[4] = {0, 1, 2, 3};
    for (int i = 0; i < 4; i++)
        ring[i] = open_coro(round_by_transfer, &firsts[i]);
    ck_assert_int_eq(fesetround(FE_UPWARD), 0);
    for (int i = 0; i < 4; i++) {
        (void)finish(ring[i], turn_by_nothing);
        ck_assert_int_eq(fegetround(), FE_UPWARD);
    }
}
END_TEST

# ifndef MTASK_CORO_NO_LOOP
static void turn_by_loop(void) {
    testing_check(mtask_yield() == MTASK_OK);
}

static void *round_in_task(void *arg) {
    round_and_turn(*(int *)arg, turn_by_loop);
    return arg;
}

static void *round_in_tasks(void *arg) {
    static int firsts[MODES] = {0, 1, 2, 3};
    mtask_future *futures[MODES];
    for (int i = 0; i < MODES; i++)
        ck_assert_status(mtask_go(round_in_task, &firsts[i], &futures[i]), MTASK_OK);
    (void)round_in_task(&firsts[2]);
    for (int i = 0; i < MODES; i++) {
        ck_assert_status(mtask_future_get(futures[i], NULL, MTASK_FOREVER), MTASK_OK);
        mtask_future_release(futures[i]);
    }
    return arg;
}

static void *start_with_roundings(void *arg) {
    int seen[MODES];
    for (int i = 0; i < MODES; i++) {
        ck_assert_int_eq(fesetround(rounding[i]), 0);
        ck_assert_status(mtask_go(tell_rounding, &seen[i], NULL), MTASK_OK);
    }
    ck_assert_int_eq(fesetround(FE_UPWARD), 0);
    ck_assert_status(mtask_sleep(MTASK_MS(1)), MTASK_OK);
    ck_assert_int_eq(fegetround(), FE_UPWARD);
    for (int i = 0; i < MODES; i++)
        ck_assert_int_eq(seen[i], rounding[i]);
    return arg;
}

START_TEST(a_task_begins_with_the_rounding_of_its_creator) {
    (void)in_loop(start_with_roundings, NULL);
    ck_assert_int_eq(fegetround(), FE_TONEAREST);
}
END_TEST

START_TEST(rounding_is_kept_apart_between_tasks) {
    ck_assert_int_eq(fesetround(FE_DOWNWARD), 0);
    (void)in_loop(round_in_tasks, NULL);
    ck_assert_int_eq(fegetround(), FE_DOWNWARD);
}
END_TEST
# endif

# if ON_X86_64
/* All modes of x86: of SSE rounding, flush-to-zero, denormals-are-zero and the exceptions that are
   masked; of the x87 rounding, precision and the masks again. */
typedef struct modes {
    uint32_t sse;
    uint16_t x87;
} modes;

static modes get_modes(void) {
    modes now;
    __asm__ volatile("stmxcsr %0" : "=m"(now.sse));
    __asm__ volatile("fnstcw %0" : "=m"(now.x87));
    now.sse &= 0xffc0; /* without the flags of what has happened */
    return now;
}

static void set_modes(modes now) {
    __asm__ volatile("ldmxcsr %0" : : "m"(now.sse));
    __asm__ volatile("fldcw %0" : : "m"(now.x87));
}

/* Whether what runs this program has them all: Valgrind only has rounding. */
static bool modes_exist(void) {
    modes before = get_modes(), other = before, now;
    other.sse ^= 0x8000;
    other.x87 ^= 0x100;
    set_modes(other);
    now = get_modes();
    set_modes(before);
    return now.sse == other.sse && now.x87 == other.x87;
}

static modes random_modes(testing_random *random) {
    modes now;
    uint32_t masks =
        (uint32_t)testing_below(random, 64) | 0x21; /* inexact and invalid stay masked */
    uint32_t round = (uint32_t)testing_below(random, 4);
    uint32_t precision = (uint32_t)testing_below(random, 3); /* 24, 53 or 64 bits */
    now.x87 = (uint16_t)(0x40 | masks | round << 10 | (precision == 0 ? 0 : precision + 1) << 8);
    if (MXCSR_IS_KEPT) { /* which has modes of its own */
        masks = (uint32_t)testing_below(random, 64) | 0x21;
        round = (uint32_t)testing_below(random, 4);
    }
    now.sse = masks << 7 | round << 13;
    if (MXCSR_IS_KEPT) /* flush to zero, denormals are zero */
        now.sse |= (uint32_t)testing_below(random, 2) << 15 | (uint32_t)testing_below(random, 2)
                                                                  << 6;
    return now;
}

static void check_modes(modes expected) {
    modes now = get_modes();
    testing_check(now.sse == expected.sse && now.x87 == expected.x87);
}

static void change_modes(uint64_t seed, turn_fn turn) {
    testing_random random = testing_random_make(seed, 0);
    modes before = get_modes();
    for (int i = 0; i < 200; i++) {
        modes now = random_modes(&random);
        if (i % 3 != 0) /* often they are the same on both sides */
            now = before;
        set_modes(now);
        turn();
        check_modes(now);
    }
    set_modes(before);
}

static void *change_modes_and_yield(void *arg) {
    change_modes(*(uint64_t *)arg, turn_by_call);
    return arg;
}

START_TEST(modes_of_sse_and_x87_are_kept_apart) {
    uint64_t seed = testing_seed();
    modes before = get_modes();
    if (!modes_exist())
        return;
    turning = open_coro(change_modes_and_yield, &seed);
    change_modes(seed + 1, turn_by_resume_if_any);
    check_modes(before);
    (void)finish(turning, turn_by_nothing);
    check_modes(before);
}
END_TEST

#  if MXCSR_IS_KEPT
/* Flush-to-zero in one of two coroutines shows in what they compute. */
static void *halve_the_smallest(void *arg) {
    bool flush = *(bool *)arg;
    for (int i = 0; i < 10; i++) {
        volatile double smallest = 2.2250738585072014e-308;
        modes now = get_modes();
        now.sse = flush ? now.sse | 0x8000 : now.sse & ~UINT32_C(0x8000);
        if (i == 0)
            set_modes(now);
        turn_by_yield();
        smallest = smallest / 2;
        testing_check((smallest > 0) != flush);
    }
    return arg;
}

START_TEST(flush_to_zero_is_a_coroutines_own) {
    bool flush[2] = {false, true};
    mtask_coro *coros[2];
    volatile double smallest = 2.2250738585072014e-308;
    if (!modes_exist())
        return;
    for (int i = 0; i < 2; i++)
        coros[i] = open_coro(halve_the_smallest, &flush[i]);
    for (int turn = 0; turn < 10; turn++)
        for (int i = 0; i < 2; i++)
            ck_assert(mtask_coro_next(coros[i], NULL));
    for (int i = 0; i < 2; i++)
        (void)finish(coros[i], turn_by_nothing);
    smallest = smallest / 2;
    ck_assert(smallest > 0);
}
END_TEST
#  else
/* Sets or clears flush-to-zero, and nothing else. */
static void set_flush(bool flush) {
    modes now = get_modes();
    now.sse = flush ? now.sse | 0x8000 : now.sse & ~UINT32_C(0x8000);
    set_modes(now);
}

static void check_flush(bool flush) {
    volatile double smallest = 2.2250738585072014e-308;
    smallest = smallest / 2;
    testing_check((smallest > 0) != flush);
}

/* Its rounding differs from its resumer's every other turn. */
static void *flush_by_turns(void *arg) {
    for (int i = 0; i < 10; i++) {
        testing_check(fesetround(i % 2 == 0 ? FE_UPWARD : FE_TONEAREST) == 0);
        check_flush(false);
        set_flush(true);
        turn_by_yield();
        testing_check(fegetround() == (i % 2 == 0 ? FE_UPWARD : FE_TONEAREST));
    }
    return arg;
}

/* What <fenv.h> does not know belongs to the thread, whatever rounding the coroutines have. */
START_TEST(flush_to_zero_is_the_threads) {
    mtask_coro *coro;
    if (!modes_exist())
        return;
    coro = open_coro(flush_by_turns, NULL);
    while (mtask_coro_next(coro, NULL)) {
        ck_assert_int_eq(fegetround(), FE_TONEAREST);
        check_flush(true);
        set_flush(false);
    }
    check_flush(false);
    end_coro(coro);
}
END_TEST
#  endif
# endif
#endif

/* ---- registers of more than 16 bytes ---- */

#if ON_X86_64 && defined(__GNUC__)
typedef uint64_t four_longs __attribute__((vector_size(32)));

__attribute__((target("avx2"))) INLINED void work_on_wide(four_longs *all, int turns, bool yields) {
    four_longs a = all[0], b = all[1], c = all[2], d = all[3], e = all[4], f = all[5], g = all[6];
    for (int i = 0; i < turns; i++) {
        a += b ^ c, b += c ^ d, c += d << 3;
        if (yields)
            turn_by_yield();
        d += e ^ f, e += f >> 5, f += g ^ a, g += a + b;
    }
    all[0] = a, all[1] = b, all[2] = c, all[3] = d, all[4] = e, all[5] = f, all[6] = g;
}

__attribute__((target("avx2"))) static NOINLINE void wide_yielding(four_longs *all) {
    work_on_wide(all, TURNS, true);
}

__attribute__((target("avx2"))) static NOINLINE void wide_straight(four_longs *all) {
    work_on_wide(all, TURNS, false);
}

static void *do_wide_work(void *arg) {
    wide_yielding((four_longs *)arg);
    return arg;
}

static void fill_wide(four_longs *all, uint64_t seed) {
    for (uint64_t i = 0; i < 7; i++)
        all[i] = (four_longs){seed + i, seed * 3 + i, seed * 5 + i, seed * 7 + i};
}

START_TEST(wide_registers_live_across_yields) {
    four_longs expected[2][7], found[2][7];
    mtask_coro *coros[2];
    if (!__builtin_cpu_supports("avx2"))
        return;
    for (int i = 0; i < 2; i++) {
        fill_wide(expected[i], (uint64_t)i + 1);
        fill_wide(found[i], (uint64_t)i + 1);
        wide_straight(expected[i]);
        coros[i] = open_coro(do_wide_work, found[i]);
    }
    while (mtask_coro_next(coros[0], NULL))
        (void)mtask_coro_next(coros[1], NULL);
    (void)finish(coros[1], scribble);
    end_coro(coros[0]);
    ck_assert_int_eq(memcmp(expected, found, sizeof expected), 0);
}
END_TEST
#endif

/* ---- errno ---- */

#ifndef MTASK_CORO_NO_LOOP
static void *keep_errno(void *arg) {
    int mine = *(int *)arg;
    for (int i = 0; i < 20; i++) {
        errno = mine + i;
        testing_check(mtask_yield() == MTASK_OK);
        testing_check(errno == mine + i);
        errno = mine - i;
        testing_check(mtask_sleep(MTASK_US(10)) == MTASK_OK);
        testing_check(errno == mine - i);
    }
    return arg;
}

static void *keep_errnos(void *arg) {
    static int numbers[5] = {1000, 2000, 3000, 4000, 5000};
    for (int i = 0; i < 4; i++)
        ck_assert_status(mtask_go(keep_errno, &numbers[i], NULL), MTASK_OK);
    (void)keep_errno(&numbers[4]);
    ck_assert_status(mtask_sleep(MTASK_MS(5)), MTASK_OK);
    return arg;
}

START_TEST(errno_is_a_tasks_own) {
    (void)in_loop(keep_errnos, NULL);
}
END_TEST
#endif

/* ---- many coroutines, in any order, that compute something that can be checked ---- */

enum { WORKERS = 64 };

typedef struct state {
    testing_random random;
    digest sum;
    turn_fn turn;
} state;

static NOINLINE double churn(double x, double y) {
    return WRAP(double, x * 3 + y * 5 + 1);
}

/* Computes on locals of all kinds, at random depth. */
static NOINLINE double compute(state *self, int depth) {
    uint64_t whole[8];
    double numbers[8], sum = 0;
    for (int i = 0; i < 8; i++) {
        whole[i] = testing_next(&self->random);
        numbers[i] = (double)(whole[i] >> 44);
    }
    for (int step = 0; step < 12; step++) {
        uint64_t choice = testing_next(&self->random);
        unsigned a = choice & 7, b = choice >> 3 & 7;
        if ((choice >> 6 & 3) == 0)
            self->turn();
        else if ((choice >> 6 & 15) == 5 && depth < 6)
            numbers[a] = compute(self, depth + 1);
        whole[a] += whole[b] ^ choice;
        numbers[b] = churn(numbers[a], numbers[b]);
        sum = WRAP(double, sum + numbers[b]);
    }
    for (int i = 0; i < 8; i++)
        digest_add(&self->sum, whole[i] ^ (uint64_t)numbers[i]);
    return sum;
}

static NOINLINE uint64_t compute_all(uint64_t seed, turn_fn turn) {
    state self = {testing_random_make(seed, 0), {seed}, turn};
    for (int i = 0; i < 10; i++)
        digest_add(&self.sum, (uint64_t)compute(&self, 0));
    return self.sum.value;
}

static void turn_by_doing_nothing(void) {
    turn_by_nothing();
}

/* Yields, and now and then it is itself the one who resumes: a coroutine in a coroutine. */
static void *compute_by_turns(void *arg) {
    worker *self = (worker *)arg;
    self->result = compute_all(self->seed, turn_by_call);
    return arg;
}

static NOINLINE uint64_t compute_nested(uint64_t seed) {
    worker inner = {NULL, seed + 1, 0};
    mtask_coro *coro = open_coro(compute_by_turns, &inner);
    while (mtask_coro_next(coro, NULL))
        turn_by_yield();
    end_coro(coro);
    return inner.result ^ compute_all(seed, turn_by_call);
}

static uint64_t compute_yielding(uint64_t seed) {
    return seed % 3 == 0 ? compute_nested(seed) : compute_all(seed, turn_by_call);
}

static uint64_t compute_straight(uint64_t seed) {
    uint64_t result = compute_all(seed, turn_by_doing_nothing);
    if (seed % 3 == 0)
        result ^= compute_all(seed + 1, turn_by_doing_nothing);
    return result;
}

/* Runs `count` of them to their ends, at most WORKERS at a time. */
static void run_workers(uint64_t seed, long count) {
    testing_random random = testing_random_make(seed, 0);
    worker workers[WORKERS];
    mtask_coro *coros[WORKERS] = {NULL};
    for (long begun = 0, ended = 0; ended < count;) {
        size_t i = testing_below(&random, WORKERS);
        if (coros[i] == NULL && begun < count) {
            workers[i] = (worker){compute_yielding, testing_next(&random), 0};
            coros[i] = open_coro(do_work, &workers[i]);
            begun++;
        } else if (coros[i] != NULL && !mtask_coro_next(coros[i], NULL)) {
            testing_check(workers[i].result == compute_straight(workers[i].seed));
            end_coro(coros[i]);
            coros[i] = NULL;
            ended++;
        }
    }
}

START_TEST(computations_in_turns_come_to_what_they_do_straight) {
    run_workers(testing_seed(), testing_scale(2000));
}
END_TEST

/* ---- threads ---- */

static void run_workers_here(testing_member *self) {
    run_workers(*(uint64_t *)self->arg + (uint64_t)self->index, testing_scale(600));
}

START_TEST(threads_switch_each_their_own) {
    testing_crowd crowd;
    uint64_t seed = testing_seed();
    testing_crowd_start(&crowd, 3, run_workers_here, &seed);
    testing_crowd_join(&crowd);
}
END_TEST

/* One coroutine that is resumed by a new thread each time. */
static void resume_here(testing_member *self) {
    mtask_coro *coro = (mtask_coro *)self->arg;
    ck_assert_ptr_null(mtask_coro_current());
    self->number = mtask_coro_next(coro, NULL);
    ck_assert_ptr_null(mtask_coro_current());
}

static void *compute_anywhere(void *arg) {
    worker *self = (worker *)arg;
    mtask_coro *me = mtask_coro_current();
    for (uint64_t i = 0; i < 10; i++) {
        self->result = work_on_integers(self->seed + i, 1, turn_by_call);
        ck_assert_ptr_eq(mtask_coro_current(), me);
    }
    return arg;
}

START_TEST(a_coroutine_may_go_from_thread_to_thread) {
    worker self = {NULL, 7, 0};
    mtask_coro *coro = open_coro(compute_anywhere, &self);
    testing_crowd crowd;
    do {
        testing_crowd_start(&crowd, 1, resume_here, coro);
        testing_crowd_join(&crowd);
    } while (crowd.members[0].number != 0);
    ck_assert_int_eq(mtask_coro_status(coro), MTASK_CORO_ENDED);
    ck_assert_uint_eq(self.result, work_on_integers(16, 1, turn_by_nothing));
    end_coro(coro);
}
END_TEST

#if ON_X86_64
# define REGISTER_TESTS                                                                            \
  preserved_registers_are_preserved, preserved_registers_are_preserved_by_transfer,                \
      preserved_registers_are_those_of_who_resumed_the_first, wide_registers_live_across_yields,
#else
# define REGISTER_TESTS
#endif
#if MXCSR_IS_KEPT
# define FLUSH_TEST flush_to_zero_is_a_coroutines_own
#else
# define FLUSH_TEST flush_to_zero_is_the_threads
#endif
#if !MODES_ARE_KEPT
# define MODE_TESTS
#elif ON_X86_64
# define MODE_TESTS                                                                                \
  rounding_is_kept_apart, rounding_is_kept_apart_by_transfer, modes_of_sse_and_x87_are_kept_apart, \
      FLUSH_TEST, a_coroutine_begins_with_the_rounding_of_its_creator,
#else
# define MODE_TESTS                                                                                \
  rounding_is_kept_apart, rounding_is_kept_apart_by_transfer,                                      \
      a_coroutine_begins_with_the_rounding_of_its_creator,
#endif
#if defined(MTASK_CORO_NO_LOOP)
# define LOOP_TESTS
#elif !MODES_ARE_KEPT
# define LOOP_TESTS errno_is_a_tasks_own,
#else
# define LOOP_TESTS                                                                                \
  errno_is_a_tasks_own, rounding_is_kept_apart_between_tasks,                                      \
      a_task_begins_with_the_rounding_of_its_creator,
#endif

TESTING_MAIN("mtask_switch", REGISTER_TESTS MODE_TESTS LOOP_TESTS values_live_across_yields,
             values_live_across_resumes, leaf_functions_keep_their_red_zone,
             frames_of_varying_size_stay_whole, frames_of_varying_size_may_resume,
             variable_arguments_pass_in_coroutines, functions_of_many_arguments_may_resume,
             a_switch_may_stand_in_an_expression, functions_of_others_may_call_what_yields,
             functions_begin_with_an_aligned_stack, coroutines_may_go_deep,
             signal_handlers_run_on_the_stack_of_the_coroutine,
             signal_handlers_run_on_the_alternate_stack, signals_may_come_at_any_time,
             longjmp_within_a_coroutine_is_as_anywhere, a_handler_may_leave_by_siglongjmp,
             computations_in_turns_come_to_what_they_do_straight, threads_switch_each_their_own,
             a_coroutine_may_go_from_thread_to_thread)
