// mkdir -p build && cc -O2 -pthread -I. -o build/pgzip examples/pgzip.c -lz
/* pgzip: gzip with many threads.

       pgzip [-1..-9] [-p N] [-cdfk] [FILE...]

   Puts FILE.gz in the place of each FILE, with its mode, owner and times; with -d the other way
   round. -k keeps FILE; -c writes to standard output, and keeps it. Without FILE, or where it is
   "-", standard input goes to standard output. -1 is fastest, -9 packs best (default: -6); -p N
   works with N threads (default: one for each CPU); -f overwrites files, follows symbolic links,
   takes files with several links, and sends packed bytes to terminals. Progress is drawn on standard
   error if that is a terminal. As gzip does, it leaves alone what it cannot put back as it was;
   removes what it has not written to the end, also when a signal ends it; and exits with 1 after an
   error, 2 after a warning.

   How: a worker reads text in blocks, workers pack them, main writes them in order, all at the same
   time; an mtask_imap lets the reader be only so many blocks ahead. Each block is packed by itself,
   with the text before it as dictionary, and fills its last byte, so that all of them are one
   stream, which any gunzip reads. With -d one worker unpacks, since no block tells where the next
   one begins; another checks what came out; main writes it. */

#define _FILE_OFFSET_BITS 64 /* files above 2 GiB on 32-bit systems, too */
#define MTASK_IMPLEMENTATION
#include "mtask_pool.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#define ZLIB_CONST
#include <zlib.h>

enum {
    BLOCK = 256 << 10,             /* bytes of text that are packed at a time */
    WINDOW = 32 << 10,             /* how far back the format can refer */
    MOST = BLOCK + BLOCK / 8 + 64, /* more than a packed block can take */
    MAX_THREADS = 1024
};
enum { ERROR = 1, WARNING = 2 }; /* exit status */

/* What the input function hands to a worker. */
struct piece {
    int64_t position;     /* in the input, behind it */
    size_t size;          /* of the text */
    bool primed;          /* the window holds the text before it */
    bool last;            /* of its member: a file may have several, one after the other */
    uint32_t crc, length; /* what that member's trailer says of it (-d) */
    Bytef window[WINDOW];
    Bytef text[BLOCK];
};

/* What the worker makes of it. */
struct packed {
    uint32_t crc; /* of the text */
    size_t size;
    Bytef bytes[MOST];
};

/* Where the input function is. */
struct source {
    int file;
    int64_t position;    /* bytes read */
    const char *why;     /* it cannot go on */
    bool begun, ended;   /* there was a block or member, there will be no more blocks */
    bool inside;         /* a member (-d) */
    bool garbage;        /* follows the last member (-d) */
    uint32_t crc;        /* of the member's header (-d) */
    z_stream inflater;   /* (-d) */
    Bytef buffer[BLOCK]; /* the last text; with -d, bytes to unpack */
};

/* A file on its way. */
struct transfer {
    const char *from, *to; /* names */
    int in, out;
    struct stat info; /* of the input */
    struct source source;
    uint32_t crc, length;     /* of the member so far */
    int64_t text;             /* bytes of text so far */
    int64_t position;         /* in the input */
    int64_t started, draw_at; /* when the progress was or will be drawn */
    bool progress;
};

static struct {
    int level;
    unsigned workers;
    bool unpack, to_stdout, force, keep;
} options = {.level = 6};

static mtask_pool *pool;
static int exit_status;

/* ---- messages ---- */

static bool drawn; /* the progress stands on the terminal */

static void erase_progress(void) {
    if (drawn)
        fputs("\r\033[K", stderr);
    drawn = false;
}

static void draw_progress(struct transfer *t) {
    int64_t now = mtask_now();
    if (!t->progress || now < t->draw_at)
        return;
    erase_progress();
    fprintf(stderr, "%s: ", t->from);
    if (S_ISREG(t->info.st_mode) && t->info.st_size > 0)
        fprintf(stderr, "%.0f %%", (double)t->position * 100 / (double)t->info.st_size);
    else
        fprintf(stderr, "%.0f MB", (double)t->position / 1e6);
    fprintf(stderr, ", %.0f MB/s", (double)t->text * 1e3 / (double)(now - t->started));
    t->draw_at = now + MTASK_MS(100);
    drawn = true;
}

static void complain(int status, const char *name, const char *why) {
    erase_progress();
    fprintf(stderr, "pgzip: %s: %s\n", name, why);
    if (status == ERROR || exit_status == 0)
        exit_status = status;
}

/* ---- the file that is being written: removed if it will not be whole ---- */

static char output[PATH_MAX];
static volatile sig_atomic_t unfinished;
static sigset_t deadly, usual;

/* Deadly signals wait while `hold`. Only main takes them: it starts its threads on hold. */
static void hold_signals(bool hold) {
    pthread_sigmask(SIG_SETMASK, hold ? &deadly : &usual, NULL);
}

static void on_signal(int number) {
    if (unfinished)
        unlink(output);
    signal(number, SIG_DFL);
    raise(number);
}

static void catch_signals(void) {
    static const int signals[] = {SIGHUP, SIGINT, SIGPIPE, SIGTERM, SIGXCPU};
    struct sigaction action = {.sa_handler = on_signal}, old;
    pthread_sigmask(SIG_SETMASK, NULL, &usual);
    deadly = usual;
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++)
        sigaddset(&deadly, signals[i]);
    action.sa_mask = deadly;
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++)
        if (sigaction(signals[i], NULL, &old) == 0 && old.sa_handler != SIG_IGN)
            sigaction(signals[i], &action, NULL);
    signal(SIGXFSZ, SIG_IGN); /* write will fail */
}

static bool create_output(struct transfer *t) {
    hold_signals(true);
    bool ready = !options.force || unlink(output) == 0 || errno == ENOENT;
    if (ready)
        t->out = open(output, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, S_IRUSR | S_IWUSR);
    int error = errno;
    unfinished = ready && t->out >= 0;
    hold_signals(false);
    if (unfinished)
        return true;
    if (error == EEXIST)
        complain(WARNING, output, "already exists -- not overwritten");
    else
        complain(ERROR, output, strerror(error));
    return false;
}

static void end_output(const char *removed) {
    hold_signals(true);
    unfinished = false;
    if (removed != NULL && unlink(removed) != 0)
        complain(WARNING, removed, strerror(errno));
    hold_signals(false);
}

static void copy_attributes(const struct transfer *t) {
    const struct stat *info = &t->info;
    const struct timespec times[] = {info->st_atim, info->st_mtim};
    mode_t mode = info->st_mode & (S_IRWXU | S_IRWXG | S_IRWXO);
    if (fchown(t->out, info->st_uid, info->st_gid) != 0 &&
        fchown(t->out, (uid_t)-1, info->st_gid) != 0)
        mode &= ~(mode_t)S_IRWXG; /* another group: what was allowed to the old one is not */
    if (fchmod(t->out, mode) != 0 || futimens(t->out, times) != 0)
        complain(WARNING, t->to, strerror(errno));
}

/* If the output is whole, it takes the place of the input. */
static void finish_output(const struct transfer *t, bool whole) {
    if (whole)
        copy_attributes(t);
    if (close(t->out) != 0 && whole) {
        complain(ERROR, t->to, strerror(errno));
        whole = false;
    }
    end_output(!whole ? output : options.keep ? NULL : t->from);
}

/* ---- reading: in a worker, one call at a time ---- */

/* Reads up to `size` bytes; 0 at the end and after an error. */
static size_t read_some(struct source *source, Bytef *buffer, size_t size) {
    ssize_t n;
    do
        n = read(source->file, buffer, size);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        source->why = strerror(errno);
    source->position += n > 0 ? n : 0;
    return n > 0 ? (size_t)n : 0;
}

/* The input failed, says the input function. */
static mtask_status fail(const struct source *source) {
    mtask_fail(MTASK_BROKEN, "%s", source->why);
    return MTASK_BROKEN;
}

/* The input function: the next block. Only the last one is not full; it may be empty. */
static mtask_status read_text(void *in, void *ctx) {
    struct piece *piece = in;
    struct source *source = ctx;
    size_t n;
    if (source->ended)
        return MTASK_DONE;
    piece->primed = source->begun;
    if (source->begun)
        memcpy(piece->window, source->buffer, WINDOW);
    for (piece->size = 0; piece->size < BLOCK; piece->size += n)
        if ((n = read_some(source, piece->text + piece->size, BLOCK - piece->size)) == 0)
            break;
    if (source->why != NULL)
        return fail(source);
    piece->position = source->position;
    piece->last = source->ended = piece->size < BLOCK;
    source->begun = true;
    memcpy(source->buffer, piece->text + BLOCK - WINDOW, WINDOW);
    return MTASK_OK;
}

/* ---- reading and unpacking: the same with -d ---- */

enum { HAS_CRC = 2, HAS_EXTRA = 4, HAS_NAME = 8, HAS_COMMENT = 16, RESERVED = 0xe0 };

static bool refill(struct source *source) {
    source->inflater.next_in = source->buffer;
    source->inflater.avail_in = (uInt)read_some(source, source->buffer, BLOCK);
    return source->inflater.avail_in > 0;
}

static int next_byte(struct source *source) {
    if (source->inflater.avail_in == 0 && !refill(source))
        return EOF;
    source->crc = (uint32_t)crc32(source->crc, source->inflater.next_in, 1);
    source->inflater.avail_in--;
    return *source->inflater.next_in++;
}

static void must_not_end(struct source *source) {
    if (source->why == NULL)
        source->why = "unexpected end of file";
}

/* A number of so many bytes, the lowest first; 0 if the file ends there. */
static uint32_t next_number(struct source *source, int bytes) {
    uint32_t number = 0;
    for (int i = 0; i < bytes; i++) {
        int byte = next_byte(source);
        if (byte == EOF) {
            must_not_end(source);
            return 0;
        }
        number |= (uint32_t)byte << (8 * i);
    }
    return number;
}

static void skip_string(struct source *source) {
    while (next_number(source, 1) != 0)
        continue;
}

/* Reads the rest of a member's header. */
static void read_header(struct source *source) {
    uint32_t method = next_number(source, 1), flags = next_number(source, 1);
    if (source->why == NULL && (method != Z_DEFLATED || (flags & RESERVED) != 0))
        source->why = "unknown method or flags -- not supported";
    next_number(source, 4); /* time */
    next_number(source, 2); /* level, system */
    if (flags & HAS_EXTRA)
        for (uint32_t n = next_number(source, 2); n > 0 && source->why == NULL; n--)
            next_number(source, 1);
    if (flags & HAS_NAME)
        skip_string(source);
    if (flags & HAS_COMMENT)
        skip_string(source);
    uint32_t crc = source->crc & 0xffff;
    if ((flags & HAS_CRC) && next_number(source, 2) != crc && source->why == NULL)
        source->why = "header checksum error";
}

/* Goes to the next member; false if there is none, or it cannot be read. */
static bool begin_member(struct source *source) {
    source->crc = 0;
    int first = next_byte(source), second = first > 0 ? next_byte(source) : 0;
    if (second == EOF || (first == EOF && !source->begun)) {
        must_not_end(source);
    } else if (first == 0x1f && second == 0x8b) {
        read_header(source);
        inflateReset(&source->inflater);
        source->inside = source->begun = source->why == NULL;
    } else if (!source->begun) {
        source->why = "not in gzip format";
    } else {
        while (first == 0) /* padding, as on tapes */
            first = next_byte(source);
        source->garbage = first != EOF;
    }
    return source->inside;
}

/* Unpacks the next piece of a member, and reads the trailer behind the last one. */
static void inflate_piece(struct source *source, struct piece *piece) {
    z_stream *z = &source->inflater;
    int status = Z_OK;
    z->next_out = piece->text;
    z->avail_out = BLOCK;
    while (status == Z_OK && z->avail_out > 0 && (z->avail_in > 0 || refill(source)))
        status = inflate(z, Z_NO_FLUSH);
    piece->size = BLOCK - z->avail_out;
    if (status == Z_STREAM_END) {
        piece->crc = next_number(source, 4);
        piece->length = next_number(source, 4);
        piece->last = source->why == NULL;
        source->inside = false;
    } else if (status != Z_OK) {
        source->why =
            status == Z_MEM_ERROR ? "memory exhausted" : "invalid compressed data--format violated";
    } else if (z->avail_out > 0) {
        must_not_end(source);
    }
}

/* The input function. What was unpacked before the input failed comes first. */
static mtask_status read_packed(void *in, void *ctx) {
    struct piece *piece = in;
    struct source *source = ctx;
    piece->size = 0;
    piece->last = false;
    if (source->why == NULL && (source->inside || begin_member(source)))
        inflate_piece(source, piece);
    piece->position = source->position - source->inflater.avail_in;
    if (piece->size > 0 || piece->last)
        return MTASK_OK;
    return source->why != NULL ? fail(source) : MTASK_DONE;
}

/* ---- work: in any worker ---- */

static _Thread_local z_stream deflater;

/* The pool's init and deinit: each worker has a deflater, reused for all blocks and files. */
static void *make_deflater(void *arg) {
    (void)arg;
    if (deflateInit2(&deflater, options.level, Z_DEFLATED, -MAX_WBITS, MAX_MEM_LEVEL - 1,
                     Z_DEFAULT_STRATEGY) != Z_OK)
        return mtask_fail(MTASK_NOMEM, "memory exhausted");
    return NULL;
}

static void end_deflater(void *arg) {
    (void)arg;
    deflateEnd(&deflater);
}

/* What is done to a piece with -d: the text stays where it is. */
static void check_piece(const void *in, void *out, void *ctx) {
    const struct piece *piece = in;
    struct packed *packed = out;
    (void)ctx;
    packed->crc = (uint32_t)crc32(0, piece->text, (uInt)piece->size);
}

static void pack_piece(const void *in, void *out, void *ctx) {
    const struct piece *piece = in;
    struct packed *packed = out;
    z_stream *z = &deflater;
    check_piece(in, out, ctx);
    deflateReset(z);
    if (piece->primed)
        deflateSetDictionary(z, piece->window, WINDOW);
    z->next_in = piece->text;
    z->avail_in = (uInt)piece->size;
    z->next_out = packed->bytes;
    z->avail_out = MOST;
    deflate(z, piece->last ? Z_FINISH : Z_SYNC_FLUSH);
    packed->size = MOST - z->avail_out;
    if (z->avail_in > 0 || z->avail_out == 0)
        mtask_fail(MTASK_OVERFLOW, "a packed block is too big");
}

/* ---- writing: in main, in order ---- */

/* A write error on standard output ends the program: there the next file would go, too, and a worker
   may be waiting for input that does not come. */
static bool put(const struct transfer *t, const void *bytes, size_t size) {
    for (const Bytef *p = bytes; size > 0;) {
        ssize_t n = write(t->out, p, size);
        if (n >= 0) {
            p += n;
            size -= (size_t)n;
        } else if (errno != EINTR) {
            complain(ERROR, t->to, strerror(errno));
            if (!unfinished)
                exit(exit_status);
            return false;
        }
    }
    return true;
}

static void set_number(Bytef bytes[4], uint32_t number) {
    for (int i = 0; i < 4; i++, number >>= 8)
        bytes[i] = (Bytef)number;
}

static bool put_header(const struct transfer *t) {
    Bytef header[10] = {0x1f, 0x8b, Z_DEFLATED};
    const char *slash = strrchr(t->from, '/'), *name = slash == NULL ? t->from : slash + 1;
    bool named = t->in != STDIN_FILENO;
    int64_t time = S_ISREG(t->info.st_mode) ? t->info.st_mtime : 0;
    header[3] = named ? HAS_NAME : 0;
    set_number(header + 4, time > 0 && time <= UINT32_MAX ? (uint32_t)time : 0);
    header[8] = options.level == 9 ? 2 : options.level == 1 ? 4 : 0;
    header[9] = 3; /* Unix */
    return put(t, header, sizeof header) && (!named || put(t, name, strlen(name) + 1));
}

static bool put_trailer(const struct transfer *t) {
    Bytef trailer[8];
    set_number(trailer, t->crc);
    set_number(trailer + 4, t->length);
    return put(t, trailer, sizeof trailer);
}

/* Compares a member with its trailer. */
static bool check_member(struct transfer *t, const struct piece *last) {
    bool same_crc = t->crc == last->crc, same_length = t->length == last->length;
    if (!same_crc)
        complain(ERROR, t->from, "invalid compressed data--crc error");
    if (!same_length)
        complain(ERROR, t->from, "invalid compressed data--length error");
    t->crc = t->length = 0;
    return same_crc && same_length;
}

static bool put_piece(struct transfer *t, const mtask_item *item) {
    const struct piece *piece = item->in;
    const struct packed *packed = item->out;
    t->crc = (uint32_t)crc32_combine(t->crc, packed->crc, (z_off_t)piece->size);
    t->length += (uint32_t)piece->size;
    t->text += (int64_t)piece->size;
    t->position = piece->position;
    draw_progress(t);
    if (!options.unpack)
        return put(t, packed->bytes, packed->size);
    return put(t, piece->text, piece->size) && (!piece->last || check_member(t, piece));
}

/* Why the pool does not do it. It is broken, and what waits in it cancelled, if make_deflater failed. */
static const char *explain(mtask_status status) {
    return status == MTASK_BROKEN || status == MTASK_CANCELED ? "memory exhausted"
                                                              : mtask_strerror(status);
}

/* Waits for the next piece, and says why there is none. */
static mtask_status next_piece(struct transfer *t, mtask_imap *imap, mtask_item *item) {
    int64_t patience = t->progress ? MTASK_MS(100) : MTASK_FOREVER;
    mtask_status status;
    while ((status = mtask_imap_next(imap, item, patience)) == MTASK_TIMEOUT)
        draw_progress(t);
    if (status != MTASK_OK && status != MTASK_DONE)
        complain(ERROR, t->from, status == MTASK_FAILED ? item->text : explain(status));
    return status;
}

/* Sends the whole input through the pool. */
static bool put_pieces(struct transfer *t) {
    mtask_imap_desc desc = {.fn = options.unpack ? check_piece : pack_piece,
                            .input = options.unpack ? read_packed : read_text,
                            .ctx = &t->source,
                            .in_size = sizeof(struct piece),
                            .out_size = sizeof(struct packed),
                            .ahead = 4 * (size_t)options.workers};
    mtask_imap *imap;
    mtask_item item;
    bool good = true;
    mtask_status status = mtask_pool_imap(pool, &desc, &imap);
    if (status != MTASK_OK) {
        complain(ERROR, t->from, explain(status));
        return false;
    }
    while (good && (status = next_piece(t, imap, &item)) == MTASK_OK)
        good = put_piece(t, &item);
    mtask_imap_close(imap);
    erase_progress();
    return good && status == MTASK_DONE;
}

/* Packed bytes do a terminal no good, and do not come from one. */
static bool refuses_terminal(const struct transfer *t) {
    if (options.force || !isatty(options.unpack ? t->in : t->out))
        return false;
    complain(ERROR, options.unpack ? t->from : t->to,
             "packed data and terminals do not go together; -f forces it");
    return true;
}

static bool transfer(struct transfer *t) {
    if (refuses_terminal(t))
        return false;
    t->source.file = t->in;
    t->started = mtask_now();
    t->draw_at = t->started + MTASK_MS(100);
    t->progress = isatty(STDERR_FILENO) && !(t->out == STDOUT_FILENO && isatty(STDOUT_FILENO));
    if (!options.unpack)
        return put_header(t) && put_pieces(t) && put_trailer(t);
    if (inflateInit2(&t->source.inflater, -MAX_WBITS) != Z_OK) {
        complain(ERROR, t->from, "memory exhausted");
        return false;
    }
    bool good = put_pieces(t);
    inflateEnd(&t->source.inflater);
    if (good && t->source.garbage)
        complain(WARNING, t->from, "decompression OK, trailing garbage ignored");
    return good;
}

/* ---- files ---- */

/* The suffix of a packed file's name, or NULL. */
static const char *find_suffix(const char *name) {
    static const char *const suffixes[] = {".gz", ".tgz"};
    for (size_t i = 0; i < sizeof suffixes / sizeof *suffixes; i++) {
        size_t size = strlen(name), tail = strlen(suffixes[i]);
        if (size > tail && name[size - tail - 1] != '/' &&
            strcmp(name + size - tail, suffixes[i]) == 0)
            return name + size - tail;
    }
    return NULL;
}

/* Makes a path of the first bytes of a name and a suffix; false, with errno, if it is too long. */
static bool join(char path[PATH_MAX], const char *name, size_t length, const char *suffix) {
    errno = ENAMETOOLONG;
    return snprintf(path, PATH_MAX, "%.*s%s", (int)length, name, suffix) < PATH_MAX;
}

static bool name_output(struct transfer *t) {
    const char *suffix = find_suffix(t->from), *added = ".gz";
    size_t length = strlen(t->from);
    if (options.unpack && suffix == NULL) {
        complain(WARNING, t->from, "unknown suffix -- ignored");
        return false;
    }
    if (!options.unpack && suffix != NULL && !options.force) {
        complain(0, t->from, "already has a suffix of gzip -- unchanged");
        return false;
    }
    if (options.unpack) {
        length = (size_t)(suffix - t->from);
        added = suffix[1] == 't' ? ".tar" : "";
    }
    t->to = output;
    if (join(output, t->from, length, added))
        return true;
    complain(ERROR, t->from, strerror(errno));
    return false;
}

/* Why a file is left alone, or NULL. */
static const char *unfit(const struct stat *info) {
    if (S_ISDIR(info->st_mode))
        return "is a directory -- ignored";
    if (options.to_stdout)
        return NULL;
    if (!S_ISREG(info->st_mode))
        return "is not a regular file -- ignored";
    if (!options.force && info->st_nlink > 1)
        return "has other links -- ignored";
    if ((info->st_mode & (S_ISUID | S_ISGID | S_ISVTX)) != 0)
        return "is set-user-ID, set-group-ID or sticky -- ignored";
    return NULL;
}

/* Opens NAME, or, to unpack it, NAME.gz. */
static bool open_input(struct transfer *t) {
    static char suffixed[PATH_MAX];
    int flags = O_RDONLY | O_CLOEXEC;
    if (!options.to_stdout)
        flags |= O_NONBLOCK | (options.force ? 0 : O_NOFOLLOW); /* does not wait at a FIFO */
    t->in = open(t->from, flags);
    if (t->in < 0 && errno == ENOENT && options.unpack && find_suffix(t->from) == NULL &&
        join(suffixed, t->from, strlen(t->from), ".gz")) {
        t->from = suffixed;
        t->in = open(t->from, flags);
    }
    if (t->in >= 0 && fstat(t->in, &t->info) == 0)
        return true;
    complain(ERROR, t->from, strerror(errno));
    return false;
}

static void transfer_file(const char *name) {
    struct transfer t = {.from = name, .to = "stdout", .out = STDOUT_FILENO};
    if (!open_input(&t))
        return;
    const char *why = unfit(&t.info);
    if (why != NULL)
        complain(WARNING, t.from, why);
    else if (options.to_stdout)
        transfer(&t);
    else if (name_output(&t) && create_output(&t))
        finish_output(&t, transfer(&t));
    close(t.in);
}

static void transfer_stdin(void) {
    struct transfer t = {.from = "stdin", .to = "stdout", .out = STDOUT_FILENO};
    if (fstat(STDIN_FILENO, &t.info) != 0)
        complain(ERROR, "stdin", strerror(errno));
    else
        transfer(&t);
}

/* ---- arguments ---- */

static void die(const char *what, const char *why) {
    fprintf(stderr, "pgzip: %s: %s\n", what, why);
    exit(ERROR);
}

static void usage(void) {
    fputs("usage: pgzip [-1..-9] [-p N] [-cdfk] [FILE...]\n", stderr);
    exit(ERROR);
}

static unsigned parse_workers(const char *text) {
    char *end;
    unsigned long number = strtoul(text, &end, 10);
    if (*text < '0' || *text > '9' || *end != '\0' || number == 0 || number > MAX_THREADS)
        usage();
    return (unsigned)number;
}

static void parse_options(int argc, char **argv) {
    options.workers = mtask_cpu_count();
    for (int option; (option = getopt(argc, argv, "123456789cdfkp:")) != -1;) {
        if (option >= '1' && option <= '9')
            options.level = option - '0';
        else if (option == 'p')
            options.workers = parse_workers(optarg);
        else if (option == '?')
            usage();
        options.to_stdout |= option == 'c';
        options.unpack |= option == 'd';
        options.force |= option == 'f';
        options.keep |= option == 'k';
    }
}

int main(int argc, char **argv) {
    parse_options(argc, argv);
    mtask_pool_desc desc = {.workers = options.workers, .name = "pgzip"};
    if (!options.unpack) {
        desc.init = make_deflater;
        desc.deinit = end_deflater;
    }
    catch_signals();
    hold_signals(true);
    mtask_status status = mtask_pool_create(&pool, &desc);
    hold_signals(false);
    if (status != MTASK_OK)
        die("cannot start", status == MTASK_SYSTEM ? strerror(errno) : mtask_strerror(status));
    if (optind == argc)
        transfer_stdin();
    for (; optind < argc; optind++)
        if (strcmp(argv[optind], "-") == 0)
            transfer_stdin();
        else
            transfer_file(argv[optind]);
    mtask_pool_destroy(pool);
    return exit_status;
}
