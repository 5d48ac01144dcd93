// mkdir -p build && cc -O2 -pthread -I. -o build/41_treesum examples/41_treesum.c -lz
//
// A parallel directory hash: `build/41_treesum [-p N] [-q] PATH...` prints the CRC-32 (that of gzip
// and zip), the size and the name of each regular file at and below the paths; of each path sorted
// by the bytes of the names, whoever is ready first. The last line is a sum over all of that: equal
// for equal trees. Symbolic links are followed in PATH, not below it.
//
//   -p N  with N threads (default: one for each CPU)
//   -q    without the progress, which is shown on standard error if that is a terminal
//
// Exit code: 1 if something could not be read or written, and the rest was done; 2 for wrong
// arguments.
//
// How: imap pulls the files from a walk through the directories, which runs ahead of the results by
// a bounded number: so memory does not grow with the number of files. Files are cut into pieces of
// 4 MB, so that many threads work also on a single big one; zlib joins the sums of the pieces.
//
// Output with -p 3 examples mtask.h (patterns):
//   ^[0-9a-f]+ +[0-9]+ examples/01_loop_thread\.c$
//   ^[0-9a-f]+ +[0-9]+ examples/02_threads\.c$
//   ^[0-9a-f]+ +[0-9]+ examples/41_treesum\.c$
//   ^[0-9a-f]+ +[0-9]+ examples/common\.h$
//   ^[0-9a-f]+ +[0-9]+ mtask\.h$
//   ^[0-9a-f]+ +[0-9]+ total of [0-9]+ files$
// Output with /dev/null:
//   00000000            0 /dev/null
//   679672df            0 total of 1 files
#define _FILE_OFFSET_BITS 64 /* files above 2 GiB on 32-bit systems, too */
#define MTASK_IMPLEMENTATION
#include "mtask_pool.h"
#include "common.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

enum { PIECE = 4 << 20, BUFFER = 64 << 10, MOST_WORKERS = 1024 };

/* ---- the walk: which pieces there are; imap calls it in one worker at a time ---- */

/* A file or directory to be looked at. */
typedef struct Entry {
    char *name; /* ends in a slash if it is a directory: then names sort as whole paths do */
    off_t size;
    int error; /* it cannot be looked at */
} Entry;

/* A part of a file, or an error. */
typedef struct Piece {
    char *name; /* freed by who gets the last one */
    off_t begin, size;
    int error;
    bool last; /* of its file: it goes on to the end, wherever that is by now */
} Piece;

typedef struct Walk {
    char **paths;   /* still to be walked; NULL ends them */
    Entry *entries; /* a stack; the next one is the last */
    size_t count, capacity;
    off_t done; /* of the next one: bytes that have been handed out */
} Walk;

/* Makes room for one more entry. */
static bool grow(Walk *walk) {
    size_t capacity = walk->capacity > 0 ? 2 * walk->capacity : 64;
    if (walk->count < walk->capacity)
        return true;
    Entry *entries = (Entry *)realloc(walk->entries, capacity * sizeof *entries);
    if (entries == NULL)
        return false;
    walk->entries = entries;
    walk->capacity = capacity;
    return true;
}

/* Adds what has this name, if it is a file or directory; `top`: it was named by the user. False: no
   memory. */
static bool add(Walk *walk, const char *directory, const char *name, bool top) {
    struct stat status;
    Entry entry = {.name = (char *)malloc(strlen(directory) + strlen(name) + 2)};
    if (entry.name == NULL || !grow(walk)) {
        free(entry.name);
        return false;
    }
    strcat(strcpy(entry.name, directory), name);
    if ((top ? stat : lstat)(entry.name, &status) != 0)
        entry.error = errno;
    else if (S_ISDIR(status.st_mode) && (name[0] == '\0' || name[strlen(name) - 1] != '/'))
        strcat(entry.name, "/");
    else if (S_ISREG(status.st_mode))
        entry.size = status.st_size;
    if (top || entry.error != 0 || S_ISREG(status.st_mode) || S_ISDIR(status.st_mode))
        walk->entries[walk->count++] = entry;
    else
        free(entry.name);
    return true;
}

static int by_name_backwards(const void *a, const void *b) {
    return strcmp(((const Entry *)b)->name, ((const Entry *)a)->name);
}

/* Adds the entries of the directory that is the last entry, instead of it; if it cannot be read, it
   stays, with the error. */
static bool read_directory(Walk *walk) {
    Entry directory = walk->entries[--walk->count];
    size_t first = walk->count;
    struct dirent *entry = NULL;
    bool enough = true;
    DIR *dir = opendir(directory.name);
    while (enough && dir != NULL && (errno = 0, entry = readdir(dir)) != NULL)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            enough = add(walk, directory.name, entry->d_name, false);
    directory.error = errno;
    if (dir != NULL)
        closedir(dir);
    if (walk->count > first)
        qsort(walk->entries + first, walk->count - first, sizeof(Entry), by_name_backwards);
    if (directory.error == 0 || !enough || !grow(walk))
        free(directory.name);
    else
        walk->entries[walk->count++] = directory;
    return enough;
}

/* The next piece of the last entry, which goes with the last piece. */
static Piece take_piece(Walk *walk) {
    const Entry *entry = &walk->entries[walk->count - 1];
    Piece piece = {.name = entry->name, .begin = walk->done, .size = PIECE, .error = entry->error};
    piece.last = piece.error != 0 || entry->size - piece.begin <= PIECE;
    walk->done = piece.last ? 0 : walk->done + PIECE;
    walk->count -= piece.last;
    return piece;
}

static mtask_status next_piece(void *in, void *ctx) {
    Walk *walk = (Walk *)ctx;
    for (bool enough = true; enough;) {
        const Entry *entry = walk->count > 0 ? &walk->entries[walk->count - 1] : NULL;
        if (entry == NULL && *walk->paths == NULL)
            return MTASK_DONE;
        if (entry == NULL) {
            enough = add(walk, "", *walk->paths++, true);
        } else if (entry->error == 0 && entry->name[strlen(entry->name) - 1] == '/') {
            enough = read_directory(walk);
        } else {
            *(Piece *)in = take_piece(walk);
            return MTASK_OK;
        }
    }
    return MTASK_NOMEM;
}

/* ---- what workers do ---- */

typedef struct Sum {
    uLong crc;
    off_t bytes;
    int error;
    unsigned char buffer[BUFFER]; /* here, so that it is allocated once and used again */
} Sum;

static void add_bytes(Sum *sum, int file, const Piece *piece) {
    ssize_t n = 1;
    while (n > 0 && (piece->last || sum->bytes < piece->size)) {
        n = read(file, sum->buffer, BUFFER);
        if (n > 0) {
            sum->crc = crc32(sum->crc, sum->buffer, (uInt)n);
            sum->bytes += n;
        }
    }
    sum->error = n < 0 ? errno : 0;
}

static void sum_up(const void *in, void *out, void *ctx) {
    const Piece *piece = (const Piece *)in;
    Sum *sum = (Sum *)out;
    (void)ctx;
    sum->crc = crc32(0, NULL, 0);
    sum->bytes = 0;
    sum->error = piece->error;
    if (sum->error != 0)
        return;
    int file = open(piece->name, O_RDONLY | O_CLOEXEC);
    if (file < 0 || (piece->begin > 0 && lseek(file, piece->begin, SEEK_SET) < 0))
        sum->error = errno;
    else
        add_bytes(sum, file, piece);
    if (file >= 0)
        close(file);
}

/* ---- what main does with the sums ---- */

typedef struct Report {
    bool progress, shown; /* shown: the progress stands on the terminal */
    int64_t start, drawn;
    uLong crc, total; /* of this file so far, of all lines so far */
    off_t bytes;      /* of this file so far */
    int error;        /* of this file */
    size_t files, errors;
    double all_bytes;
} Report;

static void erase_progress(Report *report) {
    if (report->shown)
        fputs("\r\033[K", stderr);
    report->shown = false;
}

/* At most ten times a second. */
static void draw_progress(Report *report) {
    int64_t now = mtask_now();
    if (!report->progress || now - report->drawn < MTASK_MS(100))
        return;
    fprintf(stderr, "\r\033[K%zu files, %.0f MB, %.0f MB/s", report->files, report->all_bytes / 1e6,
            report->all_bytes * 1e3 / (double)(now - report->start));
    report->drawn = now;
    report->shown = true;
}

static void complain(Report *report, const char *name, const char *why) {
    erase_progress(report);
    fprintf(stderr, "41_treesum: %s: %s\n", name, why);
    report->errors++;
}

/* Prints a line; if the name holds a line feed or a backslash, as sha256sum does. */
static void print_file(Report *report, const char *name) {
    char head[40];
    int n = snprintf(head, sizeof head, "%08lx %12jd ", report->crc, (intmax_t)report->bytes);
    report->total = crc32(report->total, (const Bytef *)head, (uInt)n);
    report->total = crc32(report->total, (const Bytef *)name, (uInt)strlen(name) + 1);
    erase_progress(report);
    if (strpbrk(name, "\n\\") != NULL)
        putchar('\\');
    fputs(head, stdout);
    for (; *name != '\0'; name++)
        if (*name == '\n' || *name == '\\')
            printf("\\%c", *name == '\n' ? 'n' : '\\');
        else
            putchar(*name);
    putchar('\n');
}

static void take(Report *report, const Piece *piece, const Sum *sum) {
    report->crc = report->bytes == 0 ? sum->crc : crc32_combine(report->crc, sum->crc, sum->bytes);
    report->bytes += sum->bytes;
    report->all_bytes += (double)sum->bytes;
    report->error = report->error != 0 ? report->error : sum->error;
    if (!piece->last)
        return;
    if (report->error != 0)
        complain(report, piece->name, strerror(report->error));
    else
        print_file(report, piece->name);
    report->files += report->error == 0;
    report->bytes = report->error = 0;
    free(piece->name);
}

static void take_all(Report *report, mtask_imap *sums) {
    mtask_item item;
    mtask_status status;
    int64_t patience = report->progress ? MTASK_MS(100) : MTASK_FOREVER;
    while ((status = mtask_imap_next(sums, &item, patience)) != MTASK_DONE) {
        if (status == MTASK_OK)
            take(report, (const Piece *)item.in, (const Sum *)item.out);
        else if (status != MTASK_TIMEOUT)
            complain(report, "the walk ends early",
                     mtask_strerror(status == MTASK_FAILED ? item.status : status));
        if (status != MTASK_OK && status != MTASK_TIMEOUT && status != MTASK_FAILED)
            break;
        draw_progress(report);
    }
    erase_progress(report);
}

static int usage(void) {
    fprintf(stderr,
            "usage: 41_treesum [-p N] [-q] PATH...\n"
            "  -p N  with N threads, at most %d (default: one for each CPU)\n"
            "  -q    without progress\n",
            MOST_WORKERS);
    return 2;
}

/* Reads the options; 0: they are wrong. */
static int read_options(int argc, char **argv, unsigned *workers, bool *progress) {
    for (int option; (option = getopt(argc, argv, "p:q")) != -1;) {
        char *end = NULL;
        unsigned long n = option == 'p' ? strtoul(optarg, &end, 10) : 1;
        if (option == '?' || (end != NULL && *end != '\0') || n == 0 || n > MOST_WORKERS)
            return 0;
        *workers = option == 'p' ? (unsigned)n : *workers;
        *progress = *progress && option != 'q';
    }
    return optind < argc ? optind : 0;
}

int main(int argc, char **argv) {
    mtask_pool *pool;
    mtask_imap *sums;
    mtask_pool_desc workers = {0};
    Report report = {.progress = isatty(STDERR_FILENO), .start = mtask_now()};
    int first = read_options(argc, argv, &workers.workers, &report.progress);
    Walk walk = {.paths = argv + first};
    if (first == 0)
        return usage();

    MUST(mtask_pool_create(&pool, &workers));
    mtask_imap_desc desc = {.fn = sum_up,
                            .input = next_piece,
                            .ctx = &walk,
                            .in_size = sizeof(Piece),
                            .out_size = sizeof(Sum),
                            .ahead = 8 * mtask_pool_workers(pool)};
    MUST(mtask_pool_imap(pool, &desc, &sums));
    take_all(&report, sums);
    mtask_imap_close(sums);
    MUST(mtask_pool_destroy(pool));
    free(walk.entries);

    printf("%08lx %12.0f total of %zu files\n", report.total, report.all_bytes, report.files);
    if (fflush(stdout) != 0 || ferror(stdout))
        complain(&report, "standard output", "cannot be written");
    return report.errors > 0;
}
