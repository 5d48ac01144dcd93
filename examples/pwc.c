// mkdir -p build && cc -O2 -pthread -I. -o build/pwc examples/pwc.c
/* pwc: counts lines, words and bytes of many files with many threads.

       pwc [-j N] [-l] [-w] [-c] [-q] PATH...

   Counts the files given and all regular files below the directories given: -l lines, -w words,
   -c bytes, or all three; -j N with N threads (default: one for each CPU); -q without the progress
   bar, which is drawn on standard error if that is a terminal. Symbolic links are followed in PATH,
   not below it. What is below a PATH is sorted by the bytes of the names.

   Output and messages are those of GNU wc 9.1 in the C locale, given the same names by

       find PATH -type f -print0 | LC_ALL=C sort -z >names; LC_ALL=C wc --files0-from=names

   There a word is a run of bytes without white space and with a printable one, 33 to 126 (since wc
   9.5: any). Exit status: 1 if a file could not be read, and the rest was counted; 2 for wrong
   arguments.

   How: main lists the files, cut into parts where they are big; each thread takes a part, counts
   it, takes the next; main draws the bar while it joins them, then adds up and prints. */

#define _FILE_OFFSET_BITS 64 /* files above 2 GiB on 32-bit systems, too */
#define MTASK_IMPLEMENTATION
#include "mtask.h"
#include <dirent.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void die(const char *why) {
    fprintf(stderr, "pwc: %s\n", why);
    exit(1);
}

static void *checked_realloc(void *old, size_t size) {
    void *p = realloc(old, size);
    if (p == NULL)
        die("memory exhausted");
    return p;
}

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wsign-conversion"
#pragma GCC diagnostic ignored "-Wundef"
#define STBDS_REALLOC(context, p, size) checked_realloc((p), (size)) /* stb_ds does not check */
#define STBDS_FREE(context, p)          free(p)
#define STB_DS_IMPLEMENTATION
#if __has_include("stb_ds.h")
# include "stb_ds.h"
#else
# include <stb/stb_ds.h>
#endif
#pragma GCC diagnostic pop

enum { LINES, WORDS, BYTES, KINDS };
enum {
    MAX_THREADS = 1024,
    BUFFER_SIZE = 128 << 10, /* fits the second-level cache */
    PART_SIZE = 4 << 20      /* bigger files are cut into parts */
};

/* A part of a file, or all of it: what a thread counts at a time. */
struct part {
    char *name;           /* shared by the parts of a file */
    int64_t offset, end;  /* the last part has no end: the file may have grown */
    int64_t lines, bytes; /* in it */
    int64_t words[2];     /* that end in it: [1] if the part before ends in a word, [0] if not */
    bool in_word[2];      /* whether it ends in a word, likewise */
    bool opened;          /* wc reports what it could open */
    int error;            /* errno of what failed, or 0 */
};

struct job {
    bool show[KINDS];     /* what to print */
    bool failed;          /* something could not be read */
    bool special;         /* some files are no regular ones */
    int64_t files;        /* how many there are */
    int64_t size;         /* their bytes, before reading */
    struct part *parts;   /* an stb_ds array, in the order of the output */
    int width;            /* of a number */
    int64_t total[KINDS]; /* of the files reported */
    mtask_mutex lock;     /* guards what follows; zeroed, it is ready */
    size_t next;          /* the first part that nobody has taken */
    int64_t files_done, bytes_done;
};

/* ---- messages ---- */

/* Prints a name as GNU programs do: quoted, unless a shell would take it as it is. */
static void print_quoted(FILE *out, const char *name) {
#define PLAIN "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ%+,-./@]_"
    bool plain = name[0] != '#' && name[0] != '~' && name[strspn(name, PLAIN "#{}~")] == '\0';
    bool escaping = false; /* inside $'...' */
    if (plain || (strchr(name, '\'') != NULL && name[strspn(name, PLAIN "': ")] == '\0')) {
        fprintf(out, plain ? "%s" : "\"%s\"", name);
        return;
    }
    fputc('\'', out);
    for (const unsigned char *p = (const unsigned char *)name; *p != '\0'; p++) {
        bool escape = *p < ' ' || *p > '~';
        if (escape != escaping && *p != '\'')
            fputs(escape ? "'$'" : "''", out);
        escaping = escape;
        if (*p == '\'')
            fputs("'\\''", out);
        else if (*p >= '\a' && *p <= '\r')
            fprintf(out, "\\%c", "abtnvfr"[*p - '\a']);
        else
            fprintf(out, escape ? "\\%03o" : "%c", *p);
    }
    fputc('\'', out);
}

static void complain(struct job *job, const char *name, int error) {
    fflush(stdout); /* in order, if both go to the same place */
    fputs("pwc: ", stderr);
    print_quoted(stderr, name);
    fprintf(stderr, ": %s\n", strerror(error));
    job->failed = true;
}

/* ---- listing: which parts of which files there are ---- */

/* Adds the parts of a file; `status` is NULL if it has none. Owns `name`. */
static void add_file(struct job *job, char *name, const struct stat *status) {
    bool regular = status != NULL && S_ISREG(status->st_mode);
    int64_t size = regular ? status->st_size : 0;
    int64_t step = size / 64 > PART_SIZE ? size / 64 : PART_SIZE;
    struct part part = {.name = name};
    if (!job->show[LINES] && !job->show[WORDS] && size > 0)
        part.offset = part.bytes = size % 4096 != 0 ? size : size - 4096; /* /sys rounds sizes up */
    for (; size - part.offset > step; part.offset = part.end) {
        part.end = part.offset + step;
        arrput(job->parts, part);
    }
    part.end = INT64_MAX;
    arrput(job->parts, part);
    job->files++;
    job->size += size;
    job->special |= status != NULL && !regular;
}

/* Adds the names of a directory's entries to *names. */
static void read_directory(struct job *job, const char *path, char ***names) {
    DIR *dir = opendir(path);
    const char *slash = path[strlen(path) - 1] == '/' ? "" : "/";
    struct dirent *entry;
    while (dir != NULL && (errno = 0, entry = readdir(dir)) != NULL) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        size_t size = strlen(path) + strlen(entry->d_name) + 2;
        arrput(*names, checked_realloc(NULL, size));
        snprintf(arrlast(*names), size, "%s%s%s", path, slash, entry->d_name);
    }
    if (errno != 0)
        complain(job, path, errno);
    if (dir != NULL)
        closedir(dir);
}

static int by_name_and_offset(const void *left, const void *right) {
    const struct part *a = left, *b = right;
    int order = strcmp(a->name, b->name);
    return order != 0 ? order : (a->offset > b->offset) - (a->offset < b->offset);
}

/* Adds a file, or all files below a directory, sorted. */
static void list_path(struct job *job, const char *path) {
    size_t first = arrlenu(job->parts);
    char **names = NULL; /* still to be looked at */
    arrput(names, strcpy(checked_realloc(NULL, strlen(path) + 1), path));
    for (bool top = true; arrlenu(names) > 0; top = false) {
        char *name = arrpop(names);
        struct stat status;
        bool exists = (top ? stat : lstat)(name, &status) == 0;
        bool directory = exists && S_ISDIR(status.st_mode);
        if (directory)
            read_directory(job, name, &names);
        if (!exists || S_ISREG(status.st_mode) || (top && !directory))
            add_file(job, name, exists ? &status : NULL); /* opening it will tell what is wrong */
        else
            free(name);
    }
    arrfree(names);
    if (arrlenu(job->parts) > first)
        qsort(job->parts + first, arrlenu(job->parts) - first, sizeof(struct part),
              by_name_and_offset);
}

/* ---- counting: 16 bytes at a time; zeros follow the text up to a multiple of that ---- */

typedef uint8_t bytes16 __attribute__((vector_size(16)));
typedef uint64_t halves __attribute__((vector_size(16)));

/* The sum of the eight bytes of `x`, if it is below 256. */
static int64_t sum_of_bytes(uint64_t x) {
    return (int64_t)((x * UINT64_C(0x0101010101010101)) >> 56);
}

static int64_t count_lines(const unsigned char *text, size_t size) {
    int64_t lines = 0;
    for (size_t i = 0; i < size; i += 16) {
        bytes16 bytes;
        memcpy(&bytes, text + i, 16);
        halves newline = (halves)((bytes == '\n') & 1);
        lines += sum_of_bytes(newline[0] + newline[1]);
    }
    return lines;
}

/* Counts the words that end in the text. *in_word tells whether a word goes on where the text
   begins and, afterwards, where it ends.

   The addition below finds the words of eight bytes at once. One number has 255 for each byte that
   is no white space, the first byte lowest, the other 255 for each printable byte; and *in_word is
   added. So a carry runs from the first printable byte of a word to the word's end: there it
   becomes a 1 in place of the space; or it leaves the number at the top, and is the next *in_word.
 */
static int64_t count_words(const unsigned char *text, size_t size, bool *in_word) {
    int64_t words = 0;
    uint64_t carry = *in_word;
    for (size_t i = 0; i < size; i += 16) {
        bytes16 bytes;
        memcpy(&bytes, text + i, 16);
        halves unspaced = (halves) ~((bytes == ' ') | (bytes - '\t' < 5));
        halves printable = (halves)(bytes - '!' < 94);
        for (int half = 0; half < 2; half++) {
            uint64_t run = le64toh(unspaced[half]);
            uint64_t sum = run + le64toh(printable[half]);
            uint64_t total = sum + carry;
            carry = (sum < run) | (total < sum);
            words += sum_of_bytes(total & ~run);
        }
    }
    *in_word = carry != 0;
    return words;
}

/* Counts the words for both of what may stand before the part; mostly it makes no difference. */
static void count_both_ways(struct part *part, const unsigned char *text, size_t size) {
    bool same = part->in_word[0] == part->in_word[1];
    int64_t words = count_words(text, size, &part->in_word[0]);
    part->words[0] += words;
    part->words[1] += same ? words : count_words(text, size, &part->in_word[1]);
    if (same)
        part->in_word[1] = part->in_word[0];
}

static void count_part(const struct job *job, struct part *part, unsigned char *buffer) {
    int file = open(part->name, O_RDONLY | O_CLOEXEC);
    bool ready = file >= 0 && (part->offset == 0 || lseek(file, part->offset, SEEK_SET) >= 0);
    int64_t left = part->end - part->offset;
    ssize_t n = ready ? 0 : -1;
    part->opened = file >= 0;
    part->in_word[1] = part->offset > 0;
    while (ready && left > 0 &&
           (n = read(file, buffer, left < BUFFER_SIZE ? (size_t)left : BUFFER_SIZE)) > 0) {
        memset(buffer + n, 0, 16);
        left -= n;
        part->bytes += n;
        part->lines += count_lines(buffer, (size_t)n);
        if (job->show[WORDS])
            count_both_ways(part, buffer, (size_t)n);
    }
    part->error = n < 0 ? errno : 0;
    if (file >= 0)
        close(file);
}

/* Notes that `done` (NULL: none yet) is done, and hands out the next part, or NULL. */
static struct part *next_part(struct job *job, const struct part *done) {
    MTASK_GUARD(&job->lock);
    if (done != NULL) {
        job->files_done += done->end == INT64_MAX;
        job->bytes_done += done->bytes;
    }
    return job->next < arrlenu(job->parts) ? &job->parts[job->next++] : NULL;
}

/* What each thread runs. */
static void *work(void *arg) {
    struct job *job = arg;
    unsigned char *buffer = malloc(BUFFER_SIZE + 16);
    if (buffer == NULL)
        return mtask_fail(MTASK_NOMEM, "memory exhausted");
    for (struct part *part = NULL; (part = next_part(job, part)) != NULL;)
        count_part(job, part, buffer);
    free(buffer);
    return NULL;
}

static void draw_progress(struct job *job, int64_t start) {
    static const char bar[] = "########################################";
    const int width = sizeof bar - 1;
    int64_t files = 0, bytes = 0;
    MTASK_WITH(&job->lock) {
        files = job->files_done;
        bytes = job->bytes_done;
    }
    int filled = bytes < job->size ? (int)(bytes * width / job->size) : width;
    double microseconds = (double)(mtask_now() - start) / 1e3;
    fprintf(stderr, "\r\033[K[%-*.*s] %jd/%jd files, %.0f MB/s", width, filled, bar,
            (intmax_t)files, (intmax_t)job->files, (double)bytes / microseconds);
}

/* Counts all parts with `count` threads; with fewer, if the system does not give so many. */
static void run_threads(struct job *job, size_t count, bool progress) {
    static mtask_thread threads[MAX_THREADS];
    mtask_outcome outcome;
    mtask_status status;
    int64_t start = mtask_now();
    size_t started = 0;
    while (started < count && mtask_thread_start(&threads[started], work, job) == MTASK_OK)
        started++;
    if (started == 0 && count > 0)
        die("cannot start a thread");
    for (size_t i = 0; i < started; i++) {
        int64_t patience = progress ? MTASK_MS(100) : MTASK_FOREVER;
        while ((status = mtask_thread_join(&threads[i], &outcome, patience)) == MTASK_TIMEOUT)
            draw_progress(job, start);
        if (status != MTASK_OK)
            die(status == MTASK_FAILED ? outcome.text : mtask_strerror(status));
    }
    if (progress)
        fputs("\r\033[K", stderr);
}

/* ---- reporting ---- */

/* wc prints a number as wide as the sum of the sizes that it was told before reading; at least 7
   wide if some file is no regular one; and a single number as it is. */
static int column_width(const struct job *job) {
    if (job->files == 1 && job->show[LINES] + job->show[WORDS] + job->show[BYTES] == 1)
        return 1;
    int width = snprintf(NULL, 0, "%jd", (intmax_t)job->size);
    return job->special && width < 7 ? 7 : width;
}

static void print_counts(const struct job *job, const int64_t counts[KINDS], const char *name) {
    for (int kind = 0; kind < KINDS; kind++)
        if (job->show[kind])
            printf("%*jd ", job->width, (intmax_t)counts[kind]);
    if (strchr(name, '\n') != NULL)
        print_quoted(stdout, name);
    else
        fputs(name, stdout);
    putchar('\n');
}

/* Reports the file that begins at `part`, up to an error; returns the part where the next one
   begins. */
static struct part *report_file(struct job *job, struct part *part) {
    const struct part *end = job->parts + arrlenu(job->parts);
    char *name = part->name;
    int64_t counts[KINDS] = {0};
    bool opened = part->opened, in_word = false;
    int error = 0;
    for (; part < end && part->name == name; part++) {
        if (error != 0)
            continue;
        counts[LINES] += part->lines;
        counts[WORDS] += part->words[in_word];
        counts[BYTES] += part->bytes;
        in_word = part->in_word[in_word];
        error = part->error;
    }
    counts[WORDS] += in_word;
    for (int kind = 0; kind < KINDS; kind++)
        job->total[kind] += counts[kind];
    if (error != 0)
        complain(job, name, error);
    if (opened)
        print_counts(job, counts, name);
    free(name);
    return part;
}

int main(int argc, char **argv) {
    static const char kinds[] = "lwc";
    struct job job = {0};
    bool quiet = false;
    unsigned long threads = mtask_cpu_count();
    for (int option; (option = getopt(argc, argv, "j:lwcq")) != -1;) {
        if (option == 'j')
            threads = strtoul(optarg, NULL, 10);
        else if (option == 'q')
            quiet = true;
        else if (option == '?')
            threads = 0;
        else
            job.show[strchr(kinds, option) - kinds] = true;
    }
    if (threads == 0 || optind == argc) {
        fputs("usage: pwc [-j N] [-l] [-w] [-c] [-q] PATH...\n", stderr);
        return 2;
    }
    if (!job.show[LINES] && !job.show[WORDS] && !job.show[BYTES])
        job.show[LINES] = job.show[WORDS] = job.show[BYTES] = true;
    for (; optind < argc; optind++)
        list_path(&job, argv[optind]);

    size_t most = arrlenu(job.parts) < MAX_THREADS ? arrlenu(job.parts) : MAX_THREADS;
    run_threads(&job, threads < most ? threads : most, !quiet && isatty(STDERR_FILENO));

    job.width = column_width(&job);
    for (struct part *part = job.parts; part < job.parts + arrlenu(job.parts);)
        part = report_file(&job, part);
    if (job.files > 1)
        print_counts(&job, job.total, "total");
    if (fflush(stdout) != 0 || ferror(stdout))
        die("write error");
    arrfree(job.parts);
    return job.failed;
}
