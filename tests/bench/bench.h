/* bench.h - the benchmark harness: ours against a peer against a known limit, interleaved.

   A benchmark is a C file with a table of cases and `return bench_main("module", cases, count);`.
   A case measures one figure from up to three sources: ours, the peer's, and what the machine
   allows at best (the limit). A source is a function that does one run and returns the figure, a
   shell command that prints one number (peers in other languages), or a constant.

   One round is one run of each source, one after the other, so that a noisy moment of the machine
   meets them alike; the order changes from round to round. One warm-up round is thrown away.
   Reported are medians and, in brackets, the quartiles; the ratio is that of the medians, and its
   quartiles are those of the ratios within each round. Lower is better, except for figures whose
   name ends in `_per_s`.

   Usage of each benchmark: PROGRAM [PART_OF_A_FIGURE'S_NAME...]
   MTASK_BENCH_RUNS  rounds (default 9, at least 5)
   MTASK_BENCH_TSV   file that receives a line per figure: figure, unit, ours, peer's name, peer,
                     ratio, and for the chart: ratio to reach, first and third quartile of the
                     ratio, limit. A number that is not known is `nan`. */
#ifndef MTASK_BENCH_H
#define MTASK_BENCH_H

#include <math.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>
#if defined(__x86_64__) || defined(__i386__)
# include <x86intrin.h>
#endif

#define BENCH_MAX_ROUNDS 101
#define BENCH_LENGTH(a)  (sizeof(a) / sizeof((a)[0]))

/* Merges functions handed over as constants into their caller, so that ours and the peer's go
   through one and the same loop without an indirect call. */
#define BENCH_MERGED static inline __attribute__((always_inline))

/* The compiler must do here what it has been asked to do before, and may not remember memory. */
#define BENCH_BARRIER() __asm__ volatile("" ::: "memory")

/* Where a figure comes from: the first of these three that is given. NAN: it is missing. */
typedef struct bench_source {
    const char *name;
    double (*run)(void);
    const char *command;
    double value;
} bench_source;

typedef struct bench_case {
    const char *figure;
    const char *unit;
    bench_source ours;
    bench_source peer;
    bench_source limit; /* no name: none is known */
    double reach;       /* the ratio to reach; 0: none is set */
    int rounds;         /* 0: as many as asked for */
    void (*note)(void); /* prints what else is worth knowing, after measuring; may be NULL */
} bench_case;

/* ---- clocks ---- */

static inline double bench_now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

/* CPU time of the calling thread: for what never waits, so that other programs count for less. */
static inline double bench_cpu_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

/* The cheapest clock there is, for single calls; see bench_ns_per_tick. */
static inline uint64_t bench_ticks(void) {
#if defined(__x86_64__) || defined(__i386__)
    return __rdtsc();
#elif defined(__aarch64__)
    uint64_t ticks;
    __asm__ volatile("mrs %0, cntvct_el0" : "=r"(ticks));
    return ticks;
#else
    return (uint64_t)bench_now_ns();
#endif
}

static inline double bench_ns_per_tick(void) {
    static double ratio;
    if (ratio == 0) {
        double start = bench_now_ns();
        uint64_t ticks = bench_ticks();
        while (bench_now_ns() - start < 20e6)
            ;
        ratio = (bench_now_ns() - start) / (double)(bench_ticks() - ticks);
    }
    return ratio;
}

/* ---- how long single calls took: a histogram of ticks with steps of 1/64 ---- */

#define BENCH__STEPS 64

typedef struct bench_histogram {
    uint64_t count[BENCH__STEPS * 60];
    uint64_t max;
} bench_histogram;

static inline void bench_histogram_add(bench_histogram *histogram, uint64_t ticks) {
    unsigned shift = 0;
    if (ticks >= BENCH__STEPS)
        shift = 63u - 6u - (unsigned)__builtin_clzll(ticks);
    histogram->count[shift * BENCH__STEPS + (unsigned)(ticks >> shift)]++;
    if (ticks > histogram->max)
        histogram->max = ticks;
}

static inline void bench_histogram_merge(bench_histogram *into, const bench_histogram *from) {
    for (size_t i = 0; i < BENCH_LENGTH(into->count); i++)
        into->count[i] += from->count[i];
    if (from->max > into->max)
        into->max = from->max;
}

/* The time in ns that the given share (0.999) of the calls did not exceed. */
static inline double bench_histogram_ns(const bench_histogram *histogram, double share) {
    uint64_t total = 0;
    for (size_t i = 0; i < BENCH_LENGTH(histogram->count); i++)
        total += histogram->count[i];
    if (total == 0)
        return (double)NAN;
    double wanted = share * (double)total;
    uint64_t seen = 0;
    size_t at = 0;
    while (at + 1 < BENCH_LENGTH(histogram->count) &&
           (double)(seen += histogram->count[at]) < wanted)
        at++;
    unsigned shift = at < 2 * BENCH__STEPS ? 0 : (unsigned)(at / BENCH__STEPS) - 1;
    double ticks = ldexp((double)(at - (size_t)shift * BENCH__STEPS) + 0.5, (int)shift);
    return ticks * bench_ns_per_tick();
}

/* ---- sources ---- */

/* Runs a shell command that prints a number first. NAN if it is not there or prints none. */
static inline double bench_command(const char *command) {
    double figure;
    FILE *output = popen(command, "r");
    if (output == NULL)
        return (double)NAN;
    bool got = fscanf(output, "%lf", &figure) == 1;
    while (getc(output) != EOF) /* let it end by itself, not by a closed pipe */
        ;
    bool ended_well = pclose(output) == 0;
    return got && ended_well ? figure : (double)NAN;
}

static inline bool bench_has(const bench_source *source) {
    return source->run != NULL || source->command != NULL || source->value != 0;
}

static inline double bench_take(const bench_source *source) {
    if (source->run != NULL)
        return source->run();
    if (source->command != NULL)
        return bench_command(source->command);
    return source->value != 0 ? source->value : (double)NAN;
}

static inline bool bench_repeats(const bench_source *source) {
    return source->run != NULL || source->command != NULL;
}

/* ---- median and quartiles ---- */

typedef struct bench_summary {
    double low; /* first quartile */
    double median;
    double high; /* third quartile */
} bench_summary;

static inline int bench__compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static inline double bench__quantile(const double *sorted, int count, double share) {
    double at = share * (count - 1);
    int below = (int)at;
    int above = below + 1 < count ? below + 1 : below;
    return sorted[below] + (at - below) * (sorted[above] - sorted[below]);
}

static inline bench_summary bench_summarize(const double *figures, int count) {
    double sorted[BENCH_MAX_ROUNDS];
    int kept = 0;
    for (int i = 0; i < count; i++)
        if (!isnan(figures[i]))
            sorted[kept++] = figures[i];
    if (kept == 0)
        return (bench_summary){(double)NAN, (double)NAN, (double)NAN};
    qsort(sorted, (size_t)kept, sizeof sorted[0], bench__compare);
    return (bench_summary){bench__quantile(sorted, kept, 0.25), bench__quantile(sorted, kept, 0.5),
                           bench__quantile(sorted, kept, 0.75)};
}

/* ---- measuring ---- */

typedef struct bench_result {
    bench_summary source[3]; /* ours, the peer's, the limit */
    bench_summary ratio;     /* median: of the medians; quartiles: of the rounds */
} bench_result;

static inline int bench_rounds(void) {
    const char *text = getenv("MTASK_BENCH_RUNS");
    int rounds = text != NULL ? atoi(text) : 9;
    if (rounds < 5)
        rounds = 5;
    return rounds < BENCH_MAX_ROUNDS ? rounds : BENCH_MAX_ROUNDS;
}

/* One run of each source, beginning with another one in each round; what was missing in the warm-up
   is not asked for again. */
static inline void bench__round(const bench_source *const sources[3], int first, bool warm_up,
                                double figures[3]) {
    for (int turn = 0; turn < 3; turn++) {
        int s = (first + turn) % 3;
        if (warm_up || !isnan(figures[s]))
            figures[s] = bench_take(sources[s]);
    }
}

static inline bench_result bench_measure(const bench_case *c) {
    const bench_source *const sources[3] = {&c->ours, &c->peer, &c->limit};
    double figures[4][BENCH_MAX_ROUNDS], latest[3] = {0}; /* figures[3]: the ratios */
    bool repeats = bench_repeats(&c->ours) || bench_repeats(&c->peer);
    int rounds = c->rounds > 0 ? c->rounds : repeats ? bench_rounds() : 1;
    if (rounds > 1)
        bench__round(sources, 0, true, latest);
    for (int round = 0; round < rounds; round++) {
        bench__round(sources, round, rounds == 1, latest);
        for (int s = 0; s < 3; s++)
            figures[s][round] = latest[s];
        figures[3][round] = latest[0] / latest[1];
    }
    bench_result result;
    for (int s = 0; s < 3; s++)
        result.source[s] = bench_summarize(figures[s], rounds);
    result.ratio = bench_summarize(figures[3], rounds);
    result.ratio.median = result.source[0].median / result.source[1].median;
    return result;
}

/* ---- reporting ---- */

static inline bool bench_more_is_better(const bench_case *c) {
    size_t length = strlen(c->figure);
    return length >= 6 && strcmp(c->figure + length - 6, "_per_s") == 0;
}

static inline bool bench_reached(const bench_case *c, double ratio) {
    return bench_more_is_better(c) ? ratio >= c->reach : ratio <= c->reach;
}

/* Three significant digits, whatever the size, never with an exponent. */
static inline const char *bench__number(char *text, size_t size, double number) {
    double magnitude = fabs(number);
    int digits = magnitude < 0.9995 ? 3 : magnitude < 9.995 ? 2 : magnitude < 99.95 ? 1 : 0;
    if (isnan(number))
        snprintf(text, size, "missing");
    else
        snprintf(text, size, "%.*f", magnitude == floor(magnitude) ? 0 : digits, number);
    return text;
}

static inline void bench__print_summary(const char *name, bench_summary s, bool spread) {
    char median[32], low[32], high[32], range[72] = "";
    bench__number(median, sizeof median, s.median);
    if (spread && !isnan(s.median))
        snprintf(range, sizeof range, "[%s-%s]", bench__number(low, sizeof low, s.low),
                 bench__number(high, sizeof high, s.high));
    printf("%s%s%7s %-15s", name, *name ? " " : "", median, range);
}

static inline void bench__print_line(const bench_case *c, const bench_result *r) {
    bool spread = bench_repeats(&c->ours) && c->rounds != 1;
    char name[32];
    snprintf(name, sizeof name, "%-17s", c->peer.name != NULL ? c->peer.name : "");
    printf("%-24s %-5s ", c->figure, c->unit);
    bench__print_summary("", r->source[0], spread);
    bench__print_summary(name, r->source[1], spread && bench_repeats(&c->peer));
    if (isnan(r->ratio.median))
        printf("%-23s", isnan(r->source[0].median) ? "  ours is missing"
                        : c->peer.name != NULL     ? "  peer is missing"
                                                   : "");
    else
        bench__print_summary("", r->ratio, spread);
    if (c->reach > 0 && !isnan(r->ratio.median))
        printf(" %s %.3g %-7s", bench_more_is_better(c) ? ">=" : "<=", c->reach,
               bench_reached(c, r->ratio.median) ? "reached" : "MISSED");
    else
        printf(" %-15s", "");
    if (bench_has(&c->limit)) {
        char limit[32];
        printf(" %s %s, ours %.2fx", c->limit.name,
               bench__number(limit, sizeof limit, r->source[2].median),
               r->source[0].median / r->source[2].median);
    }
    printf("\n");
    fflush(stdout);
}

static inline void bench__write_tsv(FILE *tsv, const bench_case *c, const bench_result *r) {
    fprintf(tsv, "%s\t%s\t%.6g\t%s\t%.6g\t%.4f", c->figure, c->unit, r->source[0].median,
            c->peer.name != NULL ? c->peer.name : "none", r->source[1].median, r->ratio.median);
    fprintf(tsv, "\t%.4g\t%.4f\t%.4f\t%.6g\n", c->reach > 0 ? c->reach : (double)NAN, r->ratio.low,
            r->ratio.high, r->source[2].median);
}

static inline void bench__print_machine(void) {
    char line[256], model[128] = "unknown CPU";
    FILE *cpuinfo = fopen("/proc/cpuinfo", "r");
    while (cpuinfo != NULL && fgets(line, sizeof line, cpuinfo) != NULL)
        if (sscanf(line, "model name : %127[^\n]", model) == 1)
            break;
    if (cpuinfo != NULL)
        fclose(cpuinfo);
    struct utsname system;
    uname(&system);
    double load[1] = {0};
    getloadavg(load, 1);
    printf("%s, %ld CPUs, %s %s, compiler %s, load %.2f%s\n", model, sysconf(_SC_NPROCESSORS_ONLN),
           system.sysname, system.release, __VERSION__, load[0],
           load[0] > 0.7 ? " (busy: expect noise)" : "");
}

/* ---- the program ---- */

static inline void *bench__sleep_for_ever(void *unused) {
    while (unused == NULL)
        pause();
    return NULL;
}

/* glibc leaves the atomic operations out of its locks while a process has only one thread. Nobody
   locks there; so measure with a second thread, asleep. */
static inline void bench__be_threaded(void) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, bench__sleep_for_ever, NULL) == 0)
        pthread_detach(thread);
}

static inline bool bench__chosen(const bench_case *c, int argc, char **argv) {
    for (int i = 1; i < argc; i++)
        if (strstr(c->figure, argv[i]) != NULL)
            return true;
    return argc < 2;
}

typedef struct bench__verdicts {
    int reached, missed, unknown; /* of the cases that have a ratio to reach */
} bench__verdicts;

static inline void bench__judge(const bench_case *c, const bench_result *r, bench__verdicts *all) {
    if (c->reach <= 0)
        return;
    if (isnan(r->ratio.median))
        all->unknown++;
    else if (bench_reached(c, r->ratio.median))
        all->reached++;
    else
        all->missed++;
}

static inline void bench__print_head(const char *module) {
    printf("%s: ", module);
    bench__print_machine();
    printf("%-24s %-5s %7s %-15s%-17s %7s %-15s%7s %-15s %-15s %s\n", "figure", "unit", "ours",
           "[quartiles]", "peer", "", "[quartiles]", "ratio", "[quartiles]", "to reach", "limit");
}

static inline int bench_main(const char *module, const bench_case *cases, size_t count, int argc,
                             char **argv) {
    const char *path = getenv("MTASK_BENCH_TSV");
    FILE *tsv = path != NULL ? fopen(path, "w") : NULL;
    bench__verdicts verdicts = {0, 0, 0};
    if (path != NULL && tsv == NULL) {
        perror(path);
        return 1;
    }
    bench__be_threaded();
    bench__print_head(module);
    for (size_t i = 0; i < count; i++) {
        if (!bench__chosen(&cases[i], argc, argv))
            continue;
        bench_result result = bench_measure(&cases[i]);
        bench__print_line(&cases[i], &result);
        if (cases[i].note != NULL)
            cases[i].note();
        bench__judge(&cases[i], &result, &verdicts);
        if (tsv != NULL)
            bench__write_tsv(tsv, &cases[i], &result);
    }
    printf("%s: %d aims reached, %d missed, %d not measured\n", module, verdicts.reached,
           verdicts.missed, verdicts.unknown);
    return tsv != NULL && fclose(tsv) != 0;
}

#endif
