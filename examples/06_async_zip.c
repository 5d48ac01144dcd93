// mkdir -p build && cc -O2 -pthread -I. -o build/06_async_zip examples/06_async_zip.c -lz
//
// A thread packs a file into a .zip archive while the main thread goes on. By default it packs
// mtask.h into build/myarchive.zip; `build/06_async_zip FILE ARCHIVE` packs another one.
//
// Output (any order):
//   The main program continues to run in foreground.
//   Finished background zip of: mtask.h
//   Main program waited until background was done.
#define MTASK_IMPLEMENTATION
#include "mtask.h"
#include "common.h"
#include <string.h>
#include <time.h>
#include <zlib.h>

typedef struct AsyncZip {
    mtask_thread thread;
    const char *infile, *outfile;
} AsyncZip;

/* What an archive says of a file, twice: before its bytes and in the directory at the end. */
typedef struct Entry {
    const char *name;
    uint32_t time, date, crc, packed_size, size;
} Entry;

static void put(FILE *file, uint32_t value, int bytes) {
    for (; bytes > 0; bytes--, value >>= 8)
        putc((int)(value & 0xff), file);
}

static void put_entry(FILE *file, const Entry *entry) {
    put(file, 20, 2); /* needs zip 2.0 */
    put(file, 0, 2);  /* no flags */
    put(file, 8, 2);  /* deflated */
    put(file, entry->time, 2);
    put(file, entry->date, 2);
    put(file, entry->crc, 4);
    put(file, entry->packed_size, 4);
    put(file, entry->size, 4);
    put(file, (uint32_t)strlen(entry->name), 2);
    put(file, 0, 2); /* no extra field */
}

static void put_local_header(FILE *file, const Entry *entry) {
    rewind(file);
    put(file, 0x04034b50, 4);
    put_entry(file, entry);
    fputs(entry->name, file);
}

static void put_directory(FILE *file, const Entry *entry) {
    uint32_t name_size = (uint32_t)strlen(entry->name);
    uint32_t start = 30 + name_size + entry->packed_size;
    put(file, 0x02014b50, 4);
    put(file, 20, 2); /* made by zip 2.0 */
    put_entry(file, entry);
    put(file, 0, 4); /* no comment, first disk */
    put(file, 0, 2); /* no attributes */
    put(file, 0, 4);
    put(file, 0, 4); /* the local header is at 0 */
    fputs(entry->name, file);
    put(file, 0x06054b50, 4);
    put(file, 0, 4); /* one disk */
    put(file, 1, 2); /* one entry on it, one in all */
    put(file, 1, 2);
    put(file, 46 + name_size, 4);
    put(file, start, 4);
    put(file, 0, 2); /* no comment */
}

static void set_time(Entry *entry) {
    time_t now = time(NULL);
    struct tm tm = {.tm_year = 80, .tm_mday = 1}; /* the first day that zip can tell */
    localtime_r(&now, &tm);
    entry->time = (uint32_t)(tm.tm_hour << 11 | tm.tm_min << 5 | tm.tm_sec / 2);
    entry->date = (uint32_t)((tm.tm_year - 80) << 9 | (tm.tm_mon + 1) << 5 | tm.tm_mday);
}

/* Deflates all of `in` to `out`, without zlib's own header, and fills in checksum and sizes. */
static mtask_status pack(FILE *in, FILE *out, Entry *entry) {
    unsigned char from[16384], to[16384];
    z_stream z = {0};
    size_t n;

    if (deflateInit2(&z, Z_DEFAULT_COMPRESSION, Z_DEFLATED, -15, 8, Z_DEFAULT_STRATEGY) != Z_OK)
        return MTASK_NOMEM;
    do {
        n = fread(from, 1, sizeof from, in);
        entry->crc = (uint32_t)crc32(entry->crc, from, (uInt)n);
        z.next_in = from;
        z.avail_in = (uInt)n;
        do {
            z.next_out = to;
            z.avail_out = sizeof to;
            deflate(&z, n < sizeof from ? Z_FINISH : Z_NO_FLUSH);
            fwrite(to, 1, sizeof to - z.avail_out, out);
        } while (z.avail_out == 0);
    } while (n == sizeof from);
    entry->size = (uint32_t)z.total_in;
    entry->packed_size = (uint32_t)z.total_out;
    bool fits = z.total_in <= UINT32_MAX && z.total_out <= UINT32_MAX - 1024;
    deflateEnd(&z);
    return fits ? MTASK_OK : MTASK_OVERFLOW;
}

static mtask_status write_archive(FILE *in, FILE *out, const char *name) {
    Entry entry = {.name = name};
    set_time(&entry);
    put_local_header(out, &entry); /* keeps the place */
    mtask_status status = pack(in, out, &entry);
    if (status != MTASK_OK)
        return status;
    put_directory(out, &entry);
    put_local_header(out, &entry);
    return ferror(in) || ferror(out) ? MTASK_SYSTEM : MTASK_OK;
}

static void *run(void *arg) {
    const AsyncZip *self = (const AsyncZip *)arg;
    const char *slash = strrchr(self->infile, '/');
    FILE *in = fopen(self->infile, "rb");
    FILE *out = in == NULL ? NULL : fopen(self->outfile, "wb");
    mtask_status status = MTASK_SYSTEM;

    if (out != NULL)
        status = write_archive(in, out, slash == NULL ? self->infile : slash + 1);
    if (out != NULL && fclose(out) != 0)
        status = MTASK_SYSTEM;
    if (in != NULL)
        fclose(in);
    if (status != MTASK_OK)
        return mtask_fail(status, "cannot zip %s into %s", self->infile, self->outfile);
    printf("Finished background zip of: %s\n", self->infile);
    return NULL;
}

int main(int argc, char **argv) {
    AsyncZip background = {.infile = argc == 3 ? argv[1] : "mtask.h",
                           .outfile = argc == 3 ? argv[2] : "build/myarchive.zip"};
    mtask_outcome outcome;

    MUST(mtask_thread_start(&background.thread, run, &background));
    printf("The main program continues to run in foreground.\n");
    if (mtask_thread_join(&background.thread, &outcome, MTASK_FOREVER) != MTASK_OK) {
        fprintf(stderr, "%s: %s\n", outcome.text, mtask_strerror(outcome.status));
        return EXIT_FAILURE;
    }
    printf("Main program waited until background was done.\n");
    return 0;
}
