// mkdir -p build && cc -O2 -pthread -I. -o build/26_pipeline examples/26_pipeline.c -lz
//
// A parallel `tar czf`: `build/26_pipeline ARCHIVE PATH...` packs the regular files at and below the
// paths (owners are not kept). Three stages: a thread reads the files and cuts the archive into
// blocks; packers, one for each CPU, compress them (gzip allows an archive of many parts); a thread
// writes them.
//
// Two bounded queues lie between. The reader puts each block into both: from `to_pack` it goes to
// whichever packer is free; from `to_write` the writer takes the blocks in order, and waits for each
// one's own event. Back-pressure: when packers or writer are slow, a queue is full and the reader
// waits; so there are never more blocks than fit into `to_write` and two, one in the reader's hand
// and one in the writer's, however big the files.
//
// What cannot be read is reported and counted, and the exit code is 1. If the archive cannot be
// written, the writer closes its queue: that stops the reader. If standard error is a terminal, it
// shows how full the queues are.
//
// Output (patterns):
//   ^[1-9][0-9]* files in build/pipeline\.tar\.gz: [0-9.]+ MB became [0-9.]+; errors: 0$
//   ^to_pack was filled to [0-9.]+ of 8 on average, to_write to [0-9.]+ of 16$
//   ^blocks at the same time, at most: ([1-9]|1[0-8])$
#define _FILE_OFFSET_BITS 64 /* files above 2 GiB on 32-bit systems, too */
#define MTASK_IMPLEMENTATION
#include "mtask_queue.h"
#include "common.h"
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

enum { TO_PACK = 8, TO_WRITE = 16, BLOCK = 32 << 10, RECORD = 512 };

/* A piece of the archive. */
typedef struct Block {
    size_t size, packed_size;
    mtask_event packed; /* the packed bytes are there */
    unsigned char bytes[BLOCK];
    unsigned char packed_bytes[BLOCK + 256]; /* packing adds less than that */
} Block;

MTASK_QUEUE_TYPE(blocks, Block *);

static blocks to_pack, to_write;
static bool progress;
static mtask_word files, errors, alive; /* alive: blocks in memory */

static void complain(const char *name, const char *why) {
    fprintf(stderr, "%s%s: %s\n", progress ? "\r\033[K" : "", name, why);
    mtask_word_add(&errors, 1);
}

/* ---- first stage: the files become a tar archive, in blocks ---- */

static struct {
    char **paths;
    Block *block;                         /* is being filled; NULL: none */
    bool stopped;                         /* nobody writes any more */
    size_t sent, in_to_pack, in_to_write; /* blocks; the sizes of the queues, summed over them */
    mtask_word most_alive;
    double bytes;
} reader;

static void send_block(void) {
    Block *block = reader.block;
    reader.block = NULL;
    reader.sent++;
    reader.in_to_pack += blocks_size(&to_pack);
    reader.in_to_write += blocks_size(&to_write);
    reader.stopped = blocks_put(&to_write, block, MTASK_FOREVER) != MTASK_OK;
    if (reader.stopped)
        free(block);
    else
        MUST(blocks_put(&to_pack, block, MTASK_FOREVER));
}

/* Where the next bytes of the archive go, and how many fit there: at least the rest of a record. */
static unsigned char *room(size_t *size) {
    if (reader.block == NULL) {
        reader.block = (Block *)malloc(sizeof(Block));
        MUST(reader.block != NULL ? MTASK_OK : MTASK_NOMEM);
        reader.block->size = 0;
        reader.block->packed = (mtask_event){0};
        mtask_word now = mtask_word_add(&alive, 1) + 1;
        reader.most_alive = now > reader.most_alive ? now : reader.most_alive;
    }
    *size = BLOCK - reader.block->size;
    return reader.block->bytes + reader.block->size;
}

static void advance(size_t size) {
    reader.block->size += size;
    reader.bytes += (double)size;
    if (reader.block->size == BLOCK)
        send_block();
}

static void add_zeros(uint64_t size) {
    while (size > 0 && !reader.stopped) {
        size_t fits;
        unsigned char *bytes = room(&fits);
        size_t n = fits < size ? fits : (size_t)size;
        memset(bytes, 0, n);
        advance(n);
        size -= n;
    }
}

typedef struct Header { /* of a file in a tar archive: a record */
    char name[100], mode[8], owner[8], group[8], size[12], time[12], checksum[8], type, link[100],
        magic[8], names[64], device[16], prefix[155], unused[12];
} Header;

/* Writes `n` in octal; the field's last byte stays as it is. */
static void put_number(char *field, size_t size, uint64_t n) {
    for (size_t i = size - 1; i-- > 0; n >>= 3)
        field[i] = (char)('0' + (n & 7));
}

/* A long name is split at a slash. */
static bool put_name(Header *header, const char *name) {
    size_t length = strlen(name);
    const char *slash = length > sizeof header->name ? strchr(name + length - 101, '/') : NULL;
    size_t prefix = slash != NULL ? (size_t)(slash - name) : 0;
    const char *rest = slash != NULL ? slash + 1 : name;
    if (prefix > sizeof header->prefix || strlen(rest) > sizeof header->name)
        return false;
    memcpy(header->prefix, name, prefix);
    memcpy(header->name, rest, strlen(rest));
    return true;
}

static void add_header(Header *header, const struct stat *status) {
    unsigned sum = 0;
    size_t fits;
    put_number(header->mode, sizeof header->mode, status->st_mode & 0777);
    put_number(header->size, sizeof header->size, (uint64_t)status->st_size);
    put_number(header->time, sizeof header->time, (uint64_t)status->st_mtime);
    header->type = '0';
    memcpy(header->magic, "ustar\00000", 8);
    memset(header->checksum, ' ', sizeof header->checksum);
    for (size_t i = 0; i < sizeof *header; i++)
        sum += ((unsigned char *)header)[i];
    put_number(header->checksum, 7, sum);
    memcpy(room(&fits), header, sizeof *header);
    advance(sizeof *header);
}

/* Exactly `size` bytes, for that stands in the header, and up to the end of the record: what is
   missing becomes zeros. */
static void add_bytes(int file, const char *name, uint64_t size) {
    uint64_t padding = (RECORD - size % RECORD) % RECORD;
    while (size > 0 && !reader.stopped) {
        size_t fits;
        unsigned char *bytes = room(&fits);
        ssize_t got = read(file, bytes, fits < size ? fits : (size_t)size);
        if (got <= 0) {
            complain(name, got < 0 ? strerror(errno) : "it has become shorter");
            break;
        }
        advance((size_t)got);
        size -= (uint64_t)got;
    }
    add_zeros(size + padding);
}

static void add_file(const char *name, const struct stat *status) {
    Header header = {0};
    int file = open(name, O_RDONLY | O_CLOEXEC);
    if (file < 0) {
        complain(name, strerror(errno));
    } else if (!put_name(&header, name + strspn(name, "/")) || status->st_size >> 33 != 0) {
        complain(name, "the name is too long, or the file too big, for a tar archive");
    } else {
        add_header(&header, status);
        add_bytes(file, name, (uint64_t)status->st_size);
        mtask_word_add(&files, 1);
    }
    if (file >= 0)
        close(file);
}

/* What nftw calls for each thing that it meets; it goes on if the answer is 0. */
static int visit(const char *name, const struct stat *status, int type, struct FTW *where) {
    (void)where;
    if (type == FTW_DNR || type == FTW_NS)
        complain(name, "cannot be read");
    else if (type == FTW_F && S_ISREG(status->st_mode))
        add_file(name, status);
    return reader.stopped;
}

static void *read_files(void *arg) {
    (void)arg;
    for (char **path = reader.paths; *path != NULL && !reader.stopped; path++)
        if (nftw(*path, visit, 16, FTW_PHYS) < 0)
            complain(*path, strerror(errno));
    add_zeros(2 * RECORD); /* the end of the archive */
    if (reader.block != NULL)
        send_block();
    MUST(blocks_close(&to_pack));
    MUST(blocks_close(&to_write));
    return NULL;
}

/* ---- second stage: blocks are packed ---- */

static void *pack(void *arg) {
    Block *block;
    z_stream z = {0};
    (void)arg;
    MUST(deflateInit2(&z, Z_DEFAULT_COMPRESSION, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) == Z_OK
             ? MTASK_OK
             : MTASK_NOMEM);
    while (blocks_get(&to_pack, &block, MTASK_FOREVER) == MTASK_OK) {
        deflateReset(&z);
        z.next_in = block->bytes;
        z.avail_in = (uInt)block->size;
        z.next_out = block->packed_bytes;
        z.avail_out = sizeof block->packed_bytes;
        MUST(deflate(&z, Z_FINISH) == Z_STREAM_END ? MTASK_OK : MTASK_OVERFLOW);
        block->packed_size = z.total_out;
        mtask_event_set(&block->packed); /* from here on it is the writer's */
    }
    deflateEnd(&z);
    return NULL;
}

/* ---- third stage: blocks are written ---- */

static struct {
    const char *name;
    double bytes;
} writer;

static void *write_archive(void *arg) {
    FILE *file = (FILE *)arg;
    Block *block;
    int error = 0;
    while (blocks_get(&to_write, &block, MTASK_FOREVER) == MTASK_OK) {
        MUST(mtask_event_wait(&block->packed, MTASK_FOREVER));
        if (error == 0 && fwrite(block->packed_bytes, block->packed_size, 1, file) != 1) {
            error = errno;
            MUST(blocks_close(&to_write)); /* the reader can put no more; what is in still comes */
        }
        writer.bytes += (double)block->packed_size;
        free(block);
        mtask_word_add(&alive, (mtask_word)-1);
    }
    if (fclose(file) != 0 && error == 0)
        error = errno;
    if (error != 0)
        complain(writer.name, strerror(error));
    return NULL;
}

/* ---- main ---- */

static void draw_progress(void) {
    static const char bar[] = "################";
    int pack_size = (int)blocks_size(&to_pack), write_size = (int)blocks_size(&to_write);
    fprintf(stderr, "\r\033[K%u files, to_pack [%-*.*s], to_write [%-*.*s]",
            mtask_word_load(&files), TO_PACK, pack_size, bar, TO_WRITE, write_size, bar);
}

static void print_summary(void) {
    double sent = reader.sent > 0 ? (double)reader.sent : 1;
    printf("%u files in %s: %.2f MB became %.2f; errors: %u\n", mtask_word_load(&files),
           writer.name, reader.bytes / 1e6, writer.bytes / 1e6, mtask_word_load(&errors));
    printf("to_pack was filled to %.1f of %d on average, to_write to %.1f of %d\n",
           (double)reader.in_to_pack / sent, TO_PACK, (double)reader.in_to_write / sent, TO_WRITE);
    printf("blocks at the same time, at most: %u\n", reader.most_alive);
}

int main(int argc, char **argv) {
    static char *default_paths[] = {"examples", "mtask.h", "mtask_queue.h", NULL};
    writer.name = argc > 2 ? argv[1] : "build/pipeline.tar.gz";
    reader.paths = argc > 2 ? argv + 2 : default_paths;
    FILE *archive = fopen(writer.name, "wb");
    if (archive == NULL) {
        complain(writer.name, strerror(errno));
        return EXIT_FAILURE;
    }
    progress = isatty(STDERR_FILENO);
    MUST(blocks_init(&to_pack, TO_PACK));
    MUST(blocks_init(&to_write, TO_WRITE));

    MUST(mtask_thread_spawn(read_files, NULL));
    MUST(mtask_thread_spawn(write_archive, archive));
    for (unsigned i = mtask_cpu_count(); i > 0; i--)
        MUST(mtask_thread_spawn(pack, NULL));
    while (mtask_thread_join_all(progress ? MTASK_MS(100) : MTASK_FOREVER) == MTASK_TIMEOUT)
        draw_progress();
    if (progress)
        fputs("\r\033[K", stderr);

    print_summary();
    MUST(blocks_deinit(&to_write));
    MUST(blocks_deinit(&to_pack));
    return mtask_word_load(&errors) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
