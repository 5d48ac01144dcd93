// mkdir -p build && cc -O2 -pthread -I. -o build/pfind_primes examples/pfind_primes.c -lm
//
// pfind_primes [-j PROCESSES] [-l] [FROM] TO
//
// Counts the primes from FROM (default: 0) to TO, or lists them (-l), on all CPUs: a pool of
// processes sieves the range, a segment each. imap deals out segments as results are taken, so that
// memory stays small however large the range; and it hands the results over in order, so that the
// list is in order. On a terminal there is a bar, with the time that is left.
//
// Output with 10000000:
//   664579 primes from 0 to 10000000; the greatest is 9999991
// Output with -j 3 999999000000 1000000000000:
//   36400 primes from 999999000000 to 1000000000000; the greatest is 999999999989
// Output with -l 100 150:
//   101
//   103
//   107
//   109
//   113
//   127
//   131
//   137
//   139
//   149
#define MTASK_IMPLEMENTATION
#include "mtask_proc.h"
#include "common.h"
#include <inttypes.h>
#include <math.h>
#include <string.h>
#include <unistd.h>

enum { SEGMENT = 1 << 20, BAR = 30, USAGE = 2 };

static const uint64_t most = (uint64_t)1 << 52; /* whose square root a double tells exactly */

/* What the processes are told. */
typedef struct Segment {
    uint64_t from, to; /* the first number, and the last one */
    bool list;
} Segment;

/* What they answer; the list of primes follows, if it was asked for. */
typedef struct Found {
    uint64_t count, greatest;
} Found;

/* ---- in each process ---- */

/* The primes by which composite numbers are known, up to the root of the greatest number. */
static uint32_t *base;
static size_t base_count;

/* The pool's init. Its input is that root. */
static mtask_status find_base(const void *in, size_t size, mtask_buf *out) {
    size_t root = *(const uint32_t *)in;
    char *composite = (char *)calloc(root + 1, 1);
    base = (uint32_t *)malloc((root + 1) * sizeof *base);
    (void)size, (void)out;
    if (composite == NULL || base == NULL)
        return MTASK_NOMEM;
    for (size_t n = 2; n <= root; n++) {
        if (composite[n])
            continue;
        base[base_count++] = (uint32_t)n;
        for (size_t multiple = n * n; multiple <= root; multiple += n)
            composite[multiple] = 1;
    }
    free(composite);
    return MTASK_OK;
}

/* Marks what is no prime, by the number's distance from the segment's first. */
static void sieve(const Segment *segment, char *composite) {
    memset(composite, 0, SEGMENT);
    for (uint64_t n = segment->from; n < 2 && n <= segment->to; n++)
        composite[n - segment->from] = 1;
    for (size_t i = 0; i < base_count; i++) {
        uint64_t prime = base[i], first = (segment->from + prime - 1) / prime * prime;
        if (prime * prime > segment->to)
            break;
        first = first < prime * prime ? prime * prime : first;
        for (uint64_t n = first; n <= segment->to; n += prime)
            composite[n - segment->from] = 1;
    }
}

static mtask_status find(const void *in, size_t size, mtask_buf *out) {
    static char composite[SEGMENT];
    const Segment *segment = (const Segment *)in;
    Found found = {0, 0};
    mtask_status status = mtask_buf_append(out, &found, sizeof found); /* its place */
    (void)size;
    sieve(segment, composite);
    for (uint64_t n = segment->from; n <= segment->to && status == MTASK_OK; n++)
        if (!composite[n - segment->from]) {
            found.count++;
            found.greatest = n;
            if (segment->list)
                status = mtask_buf_append(out, &n, sizeof n);
        }
    if (status == MTASK_OK)
        memcpy(out->data, &found, sizeof found);
    return status;
}

/* ---- in the parent ---- */

/* The rest of the range, which is dealt out. */
typedef struct Range {
    uint64_t next, to;
    bool list;
} Range;

static mtask_status deal_out(mtask_buf *in, void *ctx) {
    Range *range = (Range *)ctx;
    if (range->next > range->to)
        return MTASK_DONE;
    Segment segment = {.from = range->next, .to = range->next + SEGMENT - 1, .list = range->list};
    segment.to = segment.to < range->to ? segment.to : range->to;
    range->next = segment.to + 1;
    return mtask_buf_append(in, &segment, sizeof segment);
}

/* Draws how far it is; it is drawn over and over in the same line, at most 10 times a second. */
static void draw_bar(uint64_t done, uint64_t all, int64_t start) {
    static int64_t last;
    static const char full[] = "##############################";
    int64_t now = mtask_now();
    if (!isatty(STDERR_FILENO) || (now - last < MTASK_MS(100) && done < all))
        return;
    last = now;
    double part = (double)done / (double)all, took = (double)(now - start) / 1e9;
    if (done < all)
        fprintf(stderr, "\r\033[K[%-*.*s] %.0f %%, %.0f s left", BAR, (int)(BAR * part), full,
                100 * part, took / part - took);
    else
        fprintf(stderr, "\r\033[K"); /* it is gone at the end */
}

static void print_list(const mtask_procitem *item) {
    const char *at = (const char *)item->data + sizeof(Found);
    for (size_t left = (item->size - sizeof(Found)) / sizeof(uint64_t); left > 0; left--) {
        uint64_t prime;
        memcpy(&prime, at, sizeof prime);
        printf("%" PRIu64 "\n", prime);
        at += sizeof prime;
    }
}

/* Takes all results, in order; adds them up. */
static Found collect(mtask_procpool *pool, Range *range) {
    mtask_procimap_desc desc = {.fn = find, .input = deal_out, .ctx = range};
    mtask_procimap *results;
    mtask_procitem item;
    Found sum = {0, 0};
    mtask_status status;
    int64_t start = mtask_now();
    uint64_t from = range->next, all = (range->to - from) / SEGMENT + 1;
    MUST(mtask_procpool_imap(pool, &desc, &results));
    while ((status = mtask_procimap_next(results, &item, MTASK_FOREVER)) == MTASK_OK) {
        const Found *found = (const Found *)item.data;
        sum.count += found->count;
        sum.greatest = found->count > 0 ? found->greatest : sum.greatest;
        if (range->list)
            print_list(&item);
        draw_bar(item.index + 1, all, start);
    }
    MUST(status == MTASK_DONE ? MTASK_OK : status);
    mtask_procimap_close(results);
    return sum;
}

static void print_sum(uint64_t from, uint64_t to, Found sum) {
    printf("%" PRIu64 " primes from %" PRIu64 " to %" PRIu64, sum.count, from, to);
    if (sum.count > 0)
        printf("; the greatest is %" PRIu64, sum.greatest);
    putchar('\n');
}

static _Noreturn void usage(void) {
    fputs("usage: pfind_primes [-j PROCESSES] [-l] [FROM] TO\n", stderr);
    exit(USAGE);
}

static uint64_t parse(const char *text, uint64_t limit) {
    char *end;
    uint64_t number = strtoull(text, &end, 10);
    if (strspn(text, "0123456789") == 0 || *end != '\0' || number > limit)
        usage();
    return number;
}

int main(int argc, char **argv) {
    mtask_procpool *pool;
    mtask_procpool_desc desc = {.init = find_base};
    Range range = {0, 0, false};
    int option;
    while ((option = getopt(argc, argv, "j:l")) != -1) {
        if (option == '?')
            usage();
        if (option == 'l')
            range.list = true;
        else
            desc.workers = (unsigned)parse(optarg, 256);
    }
    if (optind + 1 != argc && optind + 2 != argc)
        usage();
    range.to = parse(argv[argc - 1], most);
    range.next = optind + 2 == argc ? parse(argv[optind], range.to) : 0;
    uint64_t from = range.next;
    uint32_t root = (uint32_t)sqrt((double)range.to) + 1;
    desc.init_in = &root;
    desc.init_size = sizeof root;
    MUST(mtask_procpool_create(&pool, &desc));
    Found sum = collect(pool, &range);
    MUST(mtask_procpool_destroy(pool));
    if (!range.list)
        print_sum(from, range.to, sum);
    if (fflush(stdout) != 0 || ferror(stdout)) {
        perror("pfind_primes: the list cannot be written");
        return EXIT_FAILURE;
    }
    return EXIT_SUCCESS;
}
