// mkdir -p build && cc -O2 -pthread -I. -o build/flash examples/flash.c -lz
/* flash: sends an image, firmware say, over a serial line to a device.

       flash [--baud N] [--timeout MS] [--tries N] IMAGE LINE
       flash --simulate COPY [--loss N] [--corrupt N] [--delay MS] [--seed N] [--mute N] [--cut N]
             [--timeout MS] [--tries N] IMAGE

   LINE is a terminal device, as /dev/ttyUSB0. --simulate makes a device, behind a pseudo terminal,
   that writes what it is sent to COPY: it loses N of 100 packets and answers, damages N of 100,
   answers up to MS late, falls silent at the Nth packet (--mute), or cuts the line there (--cut).
   Progress is drawn on standard error if that is a terminal. Exit status: 1 if a file or the line
   cannot be used, 2 for wrong arguments, 3 if the device does not answer, 4 if it refuses.

   The protocol: a packet is a struct packet without the unused end of its data, numbers in
   little-endian order; on the line it stands between END bytes, escaped as in RFC 1055, so that the
   next one is found after any damage. The first is START, then comes DATA, then END, with size and
   CRC of the image. The device answers each by ACK, by NAK (it came damaged: once more) or by
   REFUSE, with a text. What is not answered is sent again, with more patience each time.

   How: a reader thread cuts the image into packets, a writer thread sends them and waits for the
   answers; the queue between them lets the reader run ahead. Whoever fails closes the queue, which
   ends the other; main draws the progress. Nothing is allocated: the queue lies in static storage,
   and so does what mtask notes of each thread. */

#include <stddef.h>
static void *take(size_t size);
#define MTASK_MALLOC(size)     take(size)
#define MTASK_REALLOC(p, size) ((void)(p), (void)(size), (void *)NULL)
#define MTASK_FREE(p)          ((void)(p)) /* two threads, started once, need little */
#define MTASK_IMPLEMENTATION
#include "mtask_queue.h"
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>
#include <zlib.h>

enum { START = 'S', DATA = 'D', END = 'E', ACK = 'A', NAK = 'N', REFUSE = 'R' };
enum { SLIP_END = 0xC0, SLIP_ESC = 0xDB, SLIP_ESC_END = 0xDC, SLIP_ESC_ESC = 0xDD };
enum { FILE_TROUBLE = 1, USAGE, NO_ANSWER, REFUSED }; /* exit status */

/* The options that are numbers. */
enum { BAUD, TIMEOUT, TRIES, LOSS, CORRUPT, DELAY, SEED, MUTE, CUT, NUMBERS };
static long number[NUMBERS] = {[BAUD] = 115200, [TIMEOUT] = 500, [TRIES] = 8, [SEED] = 1};
static const long most[NUMBERS] = {4000000, 60000, 100, 100, 100, 1000, 1 << 30, 1 << 30, 1 << 30};

enum {
    QUEUE_LENGTH = 16,
    DATA_SIZE = 1024,
    HEADER_SIZE = 11,
    MOST_BYTES = HEADER_SIZE + DATA_SIZE
};
struct packet {
    uint32_t crc; /* of all that follows */
    uint32_t seq; /* 0 for START, then one more each */
    uint16_t size;
    uint8_t kind;
    uint8_t data[DATA_SIZE];
};
MTASK_QUEUE_TYPE(packets, struct packet);

struct line {
    int fd;         /* does not block */
    uint32_t noise; /* of a simulated device: the last random number; otherwise 0 */
    uint8_t raw[2 * MOST_BYTES + 2];
    size_t raw_at, raw_size;       /* what has been read and is still to be looked at */
    uint8_t bytes[MOST_BYTES + 1]; /* of the packet that is coming in; full: it is too long */
    size_t size;
    bool escaped;
};

struct job {
    int image;
    uint32_t size; /* of the image */
    struct line line;
    packets queue;
    mtask_word sent, resent; /* bytes that the device has; packets sent once more */
};

static void *take(size_t size) {
    static max_align_t memory[256];
    static size_t used;
    size_t count = (size + sizeof memory[0] - 1) / sizeof memory[0];
    size_t at = __atomic_fetch_add(&used, count, __ATOMIC_RELAXED);
    return at + count <= sizeof memory / sizeof memory[0] ? &memory[at] : NULL;
}

static _Noreturn void die(const char *name, const char *why, const char *hint) {
    dprintf(STDERR_FILENO, "flash: %s: %s%s\n", name, why, hint);
    exit(FILE_TROUBLE);
}

/* ---- packets on the line; MTASK_BROKEN: it was cut, MTASK_INVALID: a packet is damaged ---- */

static uint32_t crc_of(const struct packet *packet) {
    return (uint32_t)crc32(0, (const uint8_t *)packet + 4,
                           HEADER_SIZE - 4u + le16toh(packet->size));
}

/* A random number; always 0 on a real line. */
static uint32_t noise(struct line *line) {
    line->noise = line->noise != 0 ? line->noise * 1664525u + 1013904223u : 0;
    return line->noise >> 8;
}

/* Whether what happens on a simulated line to so many of 100 packets happens now. */
static bool befalls(struct line *line, int option) {
    return line->noise != 0 && noise(line) % 100 < (unsigned long)number[option];
}

static void damage(struct line *line, uint8_t *bytes, size_t size) {
    if (size > 0 && befalls(line, CORRUPT))
        bytes[noise(line) % size] ^= (uint8_t)(1u << noise(line) % 8);
}

/* Waits, if need be, after a read or write that returned `moved`. */
static mtask_status line_wait(const struct line *line, ssize_t moved, short events,
                              int64_t deadline) {
    struct pollfd ready = {.fd = line->fd, .events = events};
    if (moved > 0)
        return MTASK_OK;
    if (moved == 0 || (errno != EAGAIN && errno != EINTR))
        return MTASK_BROKEN;
    int64_t left = mtask_until(deadline);
    int ms = left == MTASK_FOREVER ? -1 : (int)((left + MTASK_MS(1) - 1) / MTASK_MS(1));
    return poll(&ready, 1, ms) == 0 ? MTASK_TIMEOUT : MTASK_OK;
}

static mtask_status line_send(struct line *line, struct packet *packet, int64_t deadline) {
    uint8_t out[2 * MOST_BYTES + 2] = {SLIP_END};
    const uint8_t *bytes = (const uint8_t *)packet, *end = bytes + HEADER_SIZE;
    size_t size = 1;
    mtask_status status = MTASK_OK;
    packet->crc = htole32(crc_of(packet));
    for (end += le16toh(packet->size); bytes < end; bytes++) {
        bool escape = *bytes == SLIP_END || *bytes == SLIP_ESC;
        if (escape)
            out[size++] = SLIP_ESC;
        out[size++] = !escape ? *bytes : *bytes == SLIP_END ? SLIP_ESC_END : SLIP_ESC_ESC;
    }
    out[size++] = SLIP_END;
    damage(line, out, size);
    for (size_t at = 0; at < size && status == MTASK_OK;) {
        ssize_t moved = write(line->fd, out + at, size - at);
        at += moved > 0 ? (size_t)moved : 0;
        status = line_wait(line, moved, POLLOUT, deadline);
    }
    return status;
}

/* Takes the next byte that came in; MTASK_EMPTY: no packet ends with it. */
static mtask_status line_take(struct line *line, uint8_t byte, struct packet *packet) {
    size_t size = line->size;
    if (byte == SLIP_END) {
        line->size = 0;
        line->escaped = false;
        memcpy(packet, line->bytes, size < MOST_BYTES ? size : MOST_BYTES);
        return size == 0 ? MTASK_EMPTY
               : size >= HEADER_SIZE && size <= MOST_BYTES &&
                       size - HEADER_SIZE == le16toh(packet->size) &&
                       crc_of(packet) == le32toh(packet->crc)
                   ? MTASK_OK
                   : MTASK_INVALID;
    }
    if (line->escaped)
        byte = byte == SLIP_ESC_END ? SLIP_END : SLIP_ESC;
    line->escaped = !line->escaped && byte == SLIP_ESC;
    if (!line->escaped && size < sizeof line->bytes)
        line->bytes[line->size++] = byte;
    return MTASK_EMPTY;
}

static mtask_status line_receive(struct line *line, struct packet *packet, int64_t deadline) {
    mtask_status status = MTASK_OK;
    while (status == MTASK_OK) {
        while (line->raw_at < line->raw_size)
            if ((status = line_take(line, line->raw[line->raw_at++], packet)) != MTASK_EMPTY)
                return status;
        ssize_t moved = read(line->fd, line->raw, sizeof line->raw);
        line->raw_at = 0;
        line->raw_size = moved > 0 ? (size_t)moved : 0;
        damage(line, line->raw, line->raw_size);
        status = line_wait(line, moved, POLLIN, deadline);
    }
    return status;
}

/* ---- reader and writer ---- */

static void *read_image(void *arg) {
    struct job *job = arg;
    struct packet packet = {.kind = START};
    uint32_t seq = 0, size = 0, crc = 0;
    while (packets_put(&job->queue, packet, MTASK_FOREVER) == MTASK_OK && packet.kind != END) {
        ssize_t n = read(job->image, packet.data, DATA_SIZE);
        if (n < 0) {
            void *failure = mtask_fail(MTASK_SYSTEM, "%s", strerror(errno));
            packets_close(&job->queue);
            return failure;
        }
        size += (uint32_t)n;
        crc = (uint32_t)crc32(crc, packet.data, (uInt)n);
        packet.kind = n > 0 ? DATA : END;
        packet.seq = htole32(++seq);
        packet.size = htole16((uint16_t)(n > 0 ? n : 8));
        if (n == 0)
            memcpy(packet.data, (uint32_t[2]){htole32(size), htole32(crc)}, 8);
    }
    return NULL;
}

/* Sends a packet until the device has answered it. */
static mtask_status deliver(struct job *job, struct packet *packet, struct packet *answer) {
    for (int try = 0; try < number[TRIES]; try++) {
        int64_t patience = MTASK_MS(number[TIMEOUT]) << (try < 3 ? try : 3);
        int64_t on_the_way = MTASK_SEC(10 * MOST_BYTES) / number[BAUD];
        int64_t deadline = mtask_deadline(patience + on_the_way);
        mtask_status status = line_send(&job->line, packet, deadline);
        answer->kind = 0;
        while (answer->kind != NAK && (status == MTASK_OK || status == MTASK_INVALID)) {
            status = line_receive(&job->line, answer, deadline);
            if (status != MTASK_OK || answer->seq != packet->seq)
                answer->kind = 0; /* damaged, or to what was sent before */
            else if (answer->kind == ACK || answer->kind == REFUSE)
                return answer->kind == ACK ? MTASK_OK : MTASK_FAILED;
        }
        if (status == MTASK_BROKEN)
            return status;
        mtask_word_add(&job->resent, 1);
    }
    return MTASK_TIMEOUT;
}

static void *explain(mtask_status status, uint32_t seq, struct packet *answer) {
    if (status == MTASK_TIMEOUT)
        return mtask_fail(status, "no answer to packet %u, %ld tries: look at cable, power, --baud",
                          seq, number[TRIES]);
    if (status == MTASK_BROKEN)
        return mtask_fail(status, "the line was cut at packet %u: plug the device in again", seq);
    if (status != MTASK_FAILED)
        return mtask_fail(status, "the image could not be read to its end");
    for (size_t i = 0; i < le16toh(answer->size); i++)
        if (answer->data[i] < ' ' || answer->data[i] > '~')
            answer->data[i] = '?'; /* no control characters for the terminal */
    return mtask_fail(status, "the device refuses packet %u: %.*s", seq, le16toh(answer->size),
                      (char *)answer->data);
}

static void *send_packets(void *arg) {
    struct job *job = arg;
    struct packet packet, answer;
    mtask_status status;
    while ((status = packets_get(&job->queue, &packet, MTASK_FOREVER)) == MTASK_OK &&
           (status = deliver(job, &packet, &answer)) == MTASK_OK && packet.kind != END)
        mtask_word_add(&job->sent, le16toh(packet.size));
    packets_close(&job->queue);
    return status == MTASK_OK ? NULL : explain(status, le32toh(packet.seq), &answer);
}

static void draw_progress(struct job *job, int64_t start) {
    uint64_t sent = mtask_word_load(&job->sent), ms = (uint64_t)(mtask_now() - start) / 1000000;
    dprintf(STDERR_FILENO, "\r\033[K%3u %% of %u KiB, %u KiB/s, %u packets sent again",
            (unsigned)(sent * 100 / job->size), (job->size + 1023) / 1024,
            (unsigned)(sent * 1000 / 1024 / (ms + 1)), mtask_word_load(&job->resent));
}

/* Reads and sends the image with two threads; returns the exit status. */
static int flash(struct job *job, const char *image_name, const char *line_name) {
    static MTASK_QUEUE_STORAGE(storage, QUEUE_LENGTH, sizeof(struct packet));
    mtask_queue_desc desc = {
        .capacity = QUEUE_LENGTH, .storage = storage, .storage_size = sizeof storage};
    mtask_thread reader = {0}, sender = {0};
    mtask_outcome read_out, sent_out;
    int64_t start = mtask_now(), patience = isatty(STDERR_FILENO) ? MTASK_MS(100) : MTASK_FOREVER;
    mtask_status status = packets_init_ex(&job->queue, &desc);
    if (status != MTASK_OK || (status = mtask_thread_start(&reader, read_image, job)) != MTASK_OK ||
        (status = mtask_thread_start(&sender, send_packets, job)) != MTASK_OK)
        die("cannot start", mtask_strerror(status), "");
    while (mtask_thread_join(&sender, &sent_out, patience) == MTASK_TIMEOUT)
        draw_progress(job, start);
    mtask_thread_join(&reader, &read_out, MTASK_FOREVER);
    packets_deinit(&job->queue);
    if (patience != MTASK_FOREVER)
        dprintf(STDERR_FILENO, "\r\033[K");
    if (sent_out.status == MTASK_OK)
        return 0;
    bool unread = read_out.status != MTASK_OK;
    dprintf(STDERR_FILENO, "flash: %s: %s\n", unread ? image_name : line_name,
            unread ? read_out.text : sent_out.text);
    dprintf(STDERR_FILENO, "flash: the device has no whole image now: flash it again\n");
    return unread ? FILE_TROUBLE : sent_out.status == MTASK_FAILED ? REFUSED : NO_ANSWER;
}

/* ---- the simulated device ---- */

struct device {
    int copy;
    uint32_t expected, size, crc; /* the next packet; of what has come of the image */
};

/* What the device does with a packet; returns why it refuses it, or NULL. */
static const char *accept_packet(struct device *device, const struct packet *packet) {
    uint32_t seq = le32toh(packet->seq), size = le16toh(packet->size);
    if (packet->kind == START)
        device->expected = device->size = device->crc = 0;
    if (seq != device->expected)
        return seq < device->expected ? NULL /* its ACK was lost */ : "some before it are missing";
    if (packet->kind == END &&
        memcmp(packet->data, (uint32_t[2]){htole32(device->size), htole32(device->crc)}, 8) != 0)
        return "this is not the image that was sent";
    if (packet->kind == DATA) {
        if (pwrite(device->copy, packet->data, size, device->size) != (ssize_t)size)
            return "it cannot be written";
        device->size += size;
        device->crc = (uint32_t)crc32(device->crc, packet->data, size);
    }
    device->expected++;
    return NULL;
}

static void run_device(struct line *line, int copy) {
    struct device device = {.copy = copy};
    struct packet packet, answer;
    for (long count = 1;; count++) {
        mtask_status status = line_receive(line, &packet, MTASK_FOREVER);
        if (status == MTASK_BROKEN || count == number[CUT])
            return;
        if (befalls(line, LOSS) || (number[MUTE] > 0 && count >= number[MUTE]))
            continue;
        const char *refusal = status == MTASK_OK ? accept_packet(&device, &packet) : NULL;
        answer.kind = status != MTASK_OK ? NAK : refusal != NULL ? REFUSE : ACK;
        answer.seq = status != MTASK_OK ? htole32(device.expected) : packet.seq;
        answer.size = htole16((uint16_t)(refusal != NULL ? strlen(refusal) : 0));
        memcpy(answer.data, refusal != NULL ? refusal : "", le16toh(answer.size));
        mtask_sleep(MTASK_MS(noise(line) % (number[DELAY] + 1)));
        if (!befalls(line, LOSS))
            line_send(line, &answer, MTASK_FOREVER);
    }
}

/* ---- files and arguments ---- */

static int open_image(const char *name, uint32_t *size) {
    struct stat about;
    int file = open(name, O_RDONLY | O_CLOEXEC);
    if (file < 0 || fstat(file, &about) != 0)
        die(name, strerror(errno), "");
    if (!S_ISREG(about.st_mode) || about.st_size == 0 || about.st_size > UINT32_MAX)
        die(name,
            !S_ISREG(about.st_mode) ? "it is no regular file"
            : about.st_size == 0    ? "it is empty"
                                    : "it is too big",
            ": nothing was sent");
    *size = (uint32_t)about.st_size;
    return file;
}

static int open_line(const char *name) {
    struct termios settings;
    int line = open(name, O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
    if (line < 0 || ioctl(line, TIOCEXCL) != 0 || tcgetattr(line, &settings) != 0)
        die(name, strerror(errno),
            errno == EACCES   ? ": ls -l shows which group may; join it"
            : errno == EBUSY  ? ": end the program that uses it"
            : errno == ENOTTY ? ": name a serial line, as /dev/ttyUSB0"
                              : "");
    cfmakeraw(&settings);
    settings.c_cflag |= CLOCAL | CREAD;
    settings.c_cflag &= ~(tcflag_t)(CRTSCTS | CSTOPB);
    if (cfsetspeed(&settings, (speed_t)number[BAUD]) != 0 ||
        tcsetattr(line, TCSANOW, &settings) != 0)
        die(name, strerror(errno), ": try another --baud");
    tcflush(line, TCIOFLUSH);
    return line;
}

/* Starts a device in a process of its own, and opens the line to it. */
static int simulate(const char *copy_name) {
    char name[64];
    int copy = open(copy_name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    struct line line = {.noise = (uint32_t)number[SEED] * 2654435761u | 1u};
    if (copy < 0)
        die(copy_name, strerror(errno), "");
    line.fd = posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
    if (line.fd < 0 || grantpt(line.fd) != 0 || unlockpt(line.fd) != 0 ||
        ptsname_r(line.fd, name, sizeof name) != 0)
        die("cannot make a pseudo terminal", strerror(errno), "");
    int other_end = open_line(name);
    pid_t device = fork();
    if (device < 0)
        die("cannot start the device", strerror(errno), "");
    if (device == 0) {
        close(other_end);
        run_device(&line, copy);
        _exit(0);
    }
    close(line.fd);
    close(copy);
    return other_end;
}

static const char *parse_options(int argc, char **argv) {
    static const struct option options[] = {{"baud", 1, NULL, BAUD},
                                            {"timeout", 1, NULL, TIMEOUT},
                                            {"tries", 1, NULL, TRIES},
                                            {"loss", 1, NULL, LOSS},
                                            {"corrupt", 1, NULL, CORRUPT},
                                            {"delay", 1, NULL, DELAY},
                                            {"seed", 1, NULL, SEED},
                                            {"mute", 1, NULL, MUTE},
                                            {"cut", 1, NULL, CUT},
                                            {"simulate", 1, NULL, NUMBERS},
                                            {0}};
    const char *copy = NULL;
    bool right = true;
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        char *end = optarg;
        if (option == NUMBERS)
            copy = optarg;
        else if (option < NUMBERS)
            number[option] = strtol(optarg, &end, 10);
        right = right && (option == NUMBERS ||
                          (option < NUMBERS && end > optarg && *end == '\0' &&
                           number[option] >= (option <= TRIES) && number[option] <= most[option]));
    }
    if (right && argc - optind == (copy != NULL ? 1 : 2))
        return copy;
    dprintf(STDERR_FILENO,
            "usage: flash [--baud N] [--timeout MS] [--tries N] IMAGE LINE\n"
            "       flash --simulate COPY [--loss %%] [--corrupt %%] [--delay MS] [--seed N]\n"
            "             [--mute N] [--cut N] [--timeout MS] [--tries N] IMAGE\n");
    exit(USAGE);
}

int main(int argc, char **argv) {
    static struct job job;
    const char *copy = parse_options(argc, argv), *image = argv[optind];
    const char *line = copy != NULL ? "simulated device" : argv[optind + 1];
    job.image = open_image(image, &job.size);
    job.line.fd = copy != NULL ? simulate(copy) : open_line(line);
    int code = flash(&job, image, line);
    if (code != 0)
        tcflush(job.line.fd,
                TCIOFLUSH); /* otherwise close waits for what a dead device never takes */
    close(job.line.fd);
    while (copy != NULL && wait(NULL) < 0 && errno == EINTR)
        continue;
    return code;
}
