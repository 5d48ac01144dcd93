// mkdir -p build && cc -O2 -pthread -I. -o build/flash examples/flash.c -lz
/* flash: sends an image, firmware say, over a serial line to a device.

       flash [--baud N] [--timeout MS] [--tries N] IMAGE LINE
       flash --simulate COPY [--loss N] [--corrupt N] [--delay MS] [--seed N] [--mute N] [--cut N]
             [--timeout MS] [--tries N] IMAGE

   LINE is a terminal device, as /dev/ttyUSB0. --simulate makes a device, behind a pseudo terminal,
   that writes what it is sent to COPY; it loses N of 100 packets and answers, damages N of 100,
   answers up to MS late, falls silent at the Nth packet (--mute), or cuts the line there (--cut).
   Progress is drawn on standard error if that is a terminal. Exit status: 1 if a file or the line
   cannot be used, 2 for wrong arguments, 3 if the device does not answer, 4 if it refuses.

   A reader thread cuts the image into packets; a sender thread sends each until it is answered
   (see below: the line); the queue between them lets the reader run ahead. Whoever fails closes it,
   which ends the other. Nothing is allocated: the queue lies in static storage, and so does what
   mtask notes of each thread. */

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
#include <pty.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>
#include <zlib.h>

/* ---- the line: packets that the host sends, and the device answers ----

   On the line a packet is a struct packet without the unused end of its data, its numbers in
   little-endian order, between two END bytes and escaped as in RFC 1055, so that the next packet is
   found after any damage. The host sends START, then DATA, then END, with size and CRC of the image;
   each again and again until the device answers with its number: ACK; NAK: it came damaged, once
   more; or REFUSE and a text.

   The functions return MTASK_OK; MTASK_TIMEOUT; MTASK_BROKEN: the line was cut; MTASK_INVALID: what
   came in is damaged. */

enum { START = 'S', DATA = 'D', END = 'E', ACK = 'A', NAK = 'N', REFUSE = 'R' };
enum { SLIP_END = 0xC0, SLIP_ESC = 0xDB, SLIP_ESC_END = 0xDC, SLIP_ESC_ESC = 0xDD };
enum { DATA_SIZE = 1024, HEADER_SIZE = 11, MOST_BYTES = HEADER_SIZE + DATA_SIZE };

struct packet {
    uint32_t crc; /* of all that follows */
    uint32_t seq; /* 0 for START, then one more each */
    uint16_t size;
    uint8_t kind;
    uint8_t data[DATA_SIZE];
};
_Static_assert(offsetof(struct packet, data) == HEADER_SIZE, "no gaps");

/* What END holds of the image. */
struct sums {
    uint32_t size, crc;
};

struct line {
    int fd;
    uint8_t raw[2 * MOST_BYTES + 2];
    size_t raw_at, raw_size;       /* what has been read and not been looked at yet */
    uint8_t bytes[MOST_BYTES + 1]; /* of the packet that is coming in; full: it is too long */
    size_t size;
    bool escaped;
    uint32_t noise; /* of a simulated device: the last random number; otherwise 0 */
    long corrupt;   /* of so many of 100 pieces that are read or sent it damages a bit */
};

/* ---- noise ---- */

/* A random number; on a real line always 0. */
static inline uint32_t line_noise(struct line *line) {
    line->noise = line->noise != 0 ? line->noise * 1664525u + 1013904223u : 0;
    return line->noise >> 8;
}

/* Whether what happens `percent` times of 100 on a simulated line happens now. */
static inline bool line_mishap(struct line *line, long percent) {
    return line->noise != 0 && line_noise(line) % 100 < (unsigned long)percent;
}

static inline void line_damage(struct line *line, uint8_t *bytes, size_t size) {
    if (size > 0 && line_mishap(line, line->corrupt))
        bytes[line_noise(line) % size] ^= (uint8_t)(1u << line_noise(line) % 8);
}

/* Waits, if need be, after a read or write that returned `moved`. */
static inline mtask_status line_wait(const struct line *line, ssize_t moved, short events,
                                     int64_t deadline) {
    struct pollfd ready = {.fd = line->fd, .events = events};
    int64_t left = mtask_until(deadline);
    if (moved == 0 || (moved < 0 && errno != EAGAIN && errno != EINTR))
        return MTASK_BROKEN;
    if (moved > 0 || left == 0) /* also what never falls silent must not go on for ever */
        return left > 0 ? MTASK_OK : MTASK_TIMEOUT;
    int ms = left == MTASK_FOREVER ? -1 : (int)((left + MTASK_MS(1) - 1) / MTASK_MS(1));
    return poll(&ready, 1, ms) == 0 ? MTASK_TIMEOUT : MTASK_OK;
}

/* ---- sending ---- */

/* Adds bytes of the image to what is known of it. */
static inline void sums_add(struct sums *sums, const uint8_t *bytes, size_t size) {
    sums->crc = htole32((uint32_t)crc32(le32toh(sums->crc), bytes, (uInt)size));
    sums->size = htole32(le32toh(sums->size) + (uint32_t)size);
}

static inline uint32_t packet_crc(const struct packet *packet) {
    return (uint32_t)crc32(0, (const uint8_t *)packet + sizeof packet->crc,
                           HEADER_SIZE - (uInt)sizeof packet->crc + le16toh(packet->size));
}

/* Writes the packet as it stands on the line to `out`; returns how many bytes that are. */
static inline size_t packet_escape(const struct packet *packet, uint8_t out[2 * MOST_BYTES + 2]) {
    const uint8_t *byte = (const uint8_t *)packet, *end = byte + HEADER_SIZE;
    size_t size = 0;
    out[size++] = SLIP_END;
    for (end += le16toh(packet->size); byte < end; byte++) {
        bool escape = *byte == SLIP_END || *byte == SLIP_ESC;
        if (escape)
            out[size++] = SLIP_ESC;
        out[size++] = !escape ? *byte : *byte == SLIP_END ? SLIP_ESC_END : SLIP_ESC_ESC;
    }
    out[size++] = SLIP_END;
    return size;
}

/* Fills in the CRC and sends the packet, as far as the line takes it until `deadline`. */
static inline mtask_status line_send(struct line *line, struct packet *packet, int64_t deadline) {
    uint8_t out[2 * MOST_BYTES + 2];
    mtask_status status = MTASK_OK;
    packet->crc = htole32(packet_crc(packet));
    size_t size = packet_escape(packet, out);
    line_damage(line, out, size);
    for (size_t at = 0; at < size && status == MTASK_OK;) {
        ssize_t moved = write(line->fd, out + at, size - at);
        at += moved > 0 ? (size_t)moved : 0;
        status = line_wait(line, moved, POLLOUT, deadline);
    }
    return status;
}

/* ---- receiving ---- */

/* Adds a byte to the packet that is coming in; returns whether the packet ends there. */
static inline bool line_take(struct line *line, uint8_t byte) {
    if (byte == SLIP_END) {
        line->escaped = false;
        return line->size > 0;
    }
    if (line->escaped)
        byte = byte == SLIP_ESC_END ? SLIP_END : SLIP_ESC;
    line->escaped = !line->escaped && byte == SLIP_ESC;
    if (!line->escaped && line->size < sizeof line->bytes)
        line->bytes[line->size++] = byte;
    return false;
}

/* Hands out the packet that came in. */
static inline mtask_status line_finish(struct line *line, struct packet *packet) {
    size_t size = line->size;
    line->size = 0;
    if (size < HEADER_SIZE || size > MOST_BYTES)
        return MTASK_INVALID;
    memcpy(packet, line->bytes, size);
    if (size != HEADER_SIZE + (size_t)le16toh(packet->size) ||
        le32toh(packet->crc) != packet_crc(packet))
        return MTASK_INVALID;
    return MTASK_OK;
}

/* Waits for the next packet. */
static inline mtask_status line_receive(struct line *line, struct packet *packet,
                                        int64_t deadline) {
    mtask_status status = MTASK_OK;
    while (status == MTASK_OK) {
        while (line->raw_at < line->raw_size)
            if (line_take(line, line->raw[line->raw_at++]))
                return line_finish(line, packet);
        ssize_t moved = read(line->fd, line->raw, sizeof line->raw);
        line->raw_at = 0;
        line->raw_size = moved > 0 ? (size_t)moved : 0;
        line_damage(line, line->raw, line->raw_size);
        status = line_wait(line, moved, POLLIN, deadline);
    }
    return status;
}

/* ---- setting up ---- */

/* Makes the line raw: eight bits, no parity, no flow control; errno tells why not. */
static inline bool line_set_up(int fd, long baud) {
    struct termios settings;
    if (tcgetattr(fd, &settings) != 0 || ioctl(fd, TIOCEXCL) != 0)
        return false;
    cfmakeraw(&settings);
    settings.c_cflag |= CLOCAL | CREAD;
    settings.c_cflag &= ~(tcflag_t)(CRTSCTS | CSTOPB);
    tcflush(fd, TCIOFLUSH);
    return cfsetspeed(&settings, (speed_t)baud) == 0 && tcsetattr(fd, TCSANOW, &settings) == 0 &&
           fcntl(fd, F_SETFL, O_NONBLOCK) == 0;
}

/* What may help if the line could not be opened or set up. */
static inline const char *line_advice(int error) {
    return error == EACCES   ? ": ls -l shows which group may use it; join that"
           : error == EBUSY  ? ": end the program that uses it"
           : error == ENOENT ? ": is the device plugged in?"
           : error == ENOTTY ? ": name a serial line, as /dev/ttyUSB0"
           : error == EINVAL ? ": try another --baud"
                             : "";
}

/* Closes the line, and forgets what a dead device has not taken: close would wait for it. */
static inline void line_close(struct line *line) {
    tcflush(line->fd, TCIOFLUSH);
    ioctl(line->fd, TIOCNXCL);
    close(line->fd);
}

/* ---- the host ---- */

enum { FILE_TROUBLE = 1, USAGE, NO_ANSWER, REFUSED };                          /* exit status */
enum { BAUD, TIMEOUT, TRIES, LOSS, CORRUPT, DELAY, SEED, MUTE, CUT, NUMBERS }; /* options */
static long number[NUMBERS] = {[BAUD] = 115200, [TIMEOUT] = 500, [TRIES] = 5, [SEED] = 1};
enum { QUEUE_LENGTH = 16 };
MTASK_QUEUE_TYPE(packets, struct packet);

struct job {
    int image;
    uint32_t size; /* of the image */
    struct line line;
    packets queue;
    mtask_word sent, resent; /* bytes that the device has; how often a packet was sent again */
};

static void *take(size_t size) {
    static max_align_t memory[128];
    static size_t used;
    size_t count = (size + sizeof memory[0] - 1) / sizeof memory[0];
    size_t at = __atomic_fetch_add(&used, count, __ATOMIC_RELAXED);
    return at + count <= sizeof memory / sizeof memory[0] ? &memory[at] : NULL;
}

static _Noreturn void die(const char *name, const char *why, const char *hint) {
    fprintf(stderr, "flash: %s: %s%s\n", name, why, hint);
    exit(FILE_TROUBLE);
}

/* ---- the two threads ---- */

static void *read_image(void *arg) {
    struct job *job = arg;
    struct packet packet = {.kind = START};
    struct sums sums = {0};
    uint32_t seq = 0;
    while (packets_put(&job->queue, packet, MTASK_FOREVER) == MTASK_OK && packet.kind != END) {
        ssize_t n = read(job->image, packet.data, DATA_SIZE);
        if (n < 0 || (n == 0 && le32toh(sums.size) != job->size)) {
            const char *why = n < 0 ? strerror(errno) : "it changed while it was read";
            packets_close(&job->queue); /* without END the device will not take it for whole */
            return mtask_fail(MTASK_SYSTEM, "%s", why);
        }
        sums_add(&sums, packet.data, (size_t)n);
        if (n == 0)
            memcpy(packet.data, &sums, sizeof sums);
        packet.kind = n > 0 ? DATA : END;
        packet.size = htole16((uint16_t)(n > 0 ? (size_t)n : sizeof sums));
        packet.seq = htole32(++seq);
    }
    return NULL;
}

/* Sends a packet until the device answers it. MTASK_FAILED: it refuses. */
static mtask_status deliver(struct job *job, struct packet *packet, struct packet *answer) {
    mtask_status status = MTASK_TIMEOUT;
    for (int again = 0; again < number[TRIES] && status != MTASK_BROKEN; again++) {
        int64_t patience = MTASK_MS(number[TIMEOUT]) << (again < 6 ? again : 6);
        int64_t deadline = mtask_deadline(patience + MTASK_SEC(10 * MOST_BYTES) / number[BAUD]);
        mtask_word_add(&job->resent, again > 0);
        status = line_send(&job->line, packet, deadline);
        while (status == MTASK_OK || status == MTASK_INVALID) {
            status = line_receive(&job->line, answer, deadline);
            if (status != MTASK_OK || answer->seq != packet->seq)
                continue; /* it answers what was sent before */
            if (answer->kind == NAK)
                break;
            if (answer->kind == ACK || answer->kind == REFUSE)
                return answer->kind == ACK ? MTASK_OK : MTASK_FAILED;
        }
    }
    return status == MTASK_BROKEN ? status : MTASK_TIMEOUT;
}

static void *explain(mtask_status status, uint32_t seq, struct packet *answer) {
    if (status == MTASK_TIMEOUT)
        return mtask_fail(status, "no answer to packet %u, %ld tries: check cable, power, --baud",
                          seq, number[TRIES]);
    if (status == MTASK_BROKEN)
        return mtask_fail(status, "the line was cut at packet %u: plug the device in again", seq);
    if (status != MTASK_FAILED)
        return mtask_fail(status, "%s", mtask_strerror(status));
    for (size_t i = 0; i < le16toh(answer->size); i++)
        if (answer->data[i] < ' ' || answer->data[i] > '~')
            answer->data[i] = '?'; /* a terminal might obey it */
    return mtask_fail(status, "the device refuses packet %u: %.*s", seq, (int)le16toh(answer->size),
                      (const char *)answer->data);
}

static void *send_packets(void *arg) {
    struct job *job = arg;
    struct packet packet = {0}, answer;
    mtask_status status = MTASK_OK;
    while (packet.kind != END &&
           (status = packets_get(&job->queue, &packet, MTASK_FOREVER)) == MTASK_OK &&
           (status = deliver(job, &packet, &answer)) == MTASK_OK)
        mtask_word_add(&job->sent, packet.kind == DATA ? le16toh(packet.size) : 0);
    packets_close(&job->queue);
    return status == MTASK_OK ? NULL : explain(status, le32toh(packet.seq), &answer);
}

static void print_progress(struct job *job, int64_t start, const char *end) {
    uint64_t sent = mtask_word_load(&job->sent), ms = (uint64_t)(mtask_now() - start) / 1000000;
    fprintf(stderr, "flash: %u %% of %u KiB, %u KiB/s, %u packets sent again%s",
            (unsigned)(sent * 100 / job->size), (job->size + 1023) / 1024,
            (unsigned)(sent * 1000 / 1024 / (ms + 1)), mtask_word_load(&job->resent), end);
}

/* Reads and sends the image with two threads; returns the exit status. */
static int flash(struct job *job, const char *image, const char *line) {
    static MTASK_QUEUE_STORAGE(storage, QUEUE_LENGTH, sizeof(struct packet));
    const mtask_queue_desc desc = {
        .capacity = QUEUE_LENGTH, .storage = storage, .storage_size = sizeof storage};
    mtask_thread reader = {0}, sender = {0};
    mtask_outcome read_out, sent_out;
    int64_t start = mtask_now(), patience = isatty(STDERR_FILENO) ? MTASK_MS(100) : MTASK_FOREVER;
    mtask_status status;
    if ((status = packets_init_ex(&job->queue, &desc)) != MTASK_OK ||
        (status = mtask_thread_start(&reader, read_image, job)) != MTASK_OK ||
        (status = mtask_thread_start(&sender, send_packets, job)) != MTASK_OK)
        die("cannot start", mtask_strerror(status), "");
    while (mtask_thread_join(&sender, &sent_out, patience) == MTASK_TIMEOUT)
        print_progress(job, start, "\033[K\r");
    mtask_thread_join(&reader, &read_out, MTASK_FOREVER);
    packets_deinit(&job->queue);
    print_progress(job, start, patience != MTASK_FOREVER ? "\033[K\n" : "\n");
    if (sent_out.status == MTASK_OK)
        return 0;
    bool unread = read_out.status != MTASK_OK;
    fprintf(stderr, "flash: %s: %s\nflash: the device has no whole image now: flash it again\n",
            unread ? image : line, unread ? read_out.text : sent_out.text);
    return unread ? FILE_TROUBLE : sent_out.status == MTASK_FAILED ? REFUSED : NO_ANSWER;
}

/* ---- the simulated device ---- */

struct device {
    int copy;
    uint32_t expected; /* the number of the next packet */
    struct sums sums;  /* of what has come of the image */
};

/* What the device does with a packet; returns why it refuses it, or NULL. */
static const char *obey(struct device *device, const struct packet *packet) {
    uint32_t seq = le32toh(packet->seq);
    size_t n = le16toh(packet->size);
    if (packet->kind == START)
        *device = (struct device){.copy = device->copy};
    if (seq != device->expected)
        return seq < device->expected ? NULL /* the ACK was lost */ : "some before it are missing";
    if (packet->kind == END && memcmp(packet->data, &device->sums, sizeof device->sums) != 0)
        return "the image is not the one that was sent";
    if (packet->kind == DATA &&
        pwrite(device->copy, packet->data, n, le32toh(device->sums.size)) != (ssize_t)n)
        return "it cannot be written";
    if (packet->kind == DATA)
        sums_add(&device->sums, packet->data, n);
    device->expected++;
    return NULL;
}

static void run_device(struct line *line, int copy) {
    struct device device = {.copy = copy};
    struct packet packet, answer;
    for (;;) {
        mtask_status status = line_receive(line, &packet, MTASK_FOREVER);
        if (status == MTASK_BROKEN ||
            (status == MTASK_OK && le32toh(packet.seq) + 1 == number[CUT]))
            return;
        if (line_mishap(line, number[LOSS]) || device.expected + 1 == number[MUTE])
            continue;
        const char *refusal = status == MTASK_OK ? obey(&device, &packet) : NULL;
        answer.kind = status != MTASK_OK ? NAK : refusal != NULL ? REFUSE : ACK;
        answer.seq = status != MTASK_OK ? htole32(device.expected) : packet.seq;
        int n = snprintf((char *)answer.data, DATA_SIZE, "%s", refusal != NULL ? refusal : "");
        answer.size = htole16((uint16_t)n);
        mtask_sleep(MTASK_MS(line_noise(line) % ((unsigned long)number[DELAY] + 1)));
        if (!line_mishap(line, number[LOSS]))
            line_send(line, &answer, MTASK_FOREVER);
    }
}

/* Starts the device in a process of its own; returns the host's end of the line. */
static int simulate(const char *copy_name) {
    struct line line = {.corrupt = number[CORRUPT], .noise = (uint32_t)number[SEED] << 1 | 1};
    int fd, copy = open(copy_name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    pid_t device;
    if (copy < 0)
        die(copy_name, strerror(errno), "");
    if (openpty(&line.fd, &fd, NULL, NULL, NULL) != 0 || (device = fork()) < 0)
        die("cannot simulate a device", strerror(errno), "");
    if (device == 0) {
        close(fd);
        run_device(&line, copy);
        _exit(0);
    }
    close(line.fd);
    close(copy);
    return fd;
}

/* ---- files and arguments ---- */

static int open_image(const char *name, uint32_t *size) {
    struct stat about;
    int file = open(name, O_RDONLY | O_CLOEXEC);
    if (file < 0 || fstat(file, &about) != 0)
        die(name, strerror(errno), "");
    if (!S_ISREG(about.st_mode) || about.st_size == 0 || about.st_size > UINT32_MAX)
        die(name, "an image must be a regular file of 1 byte to 4 GiB", "");
    *size = (uint32_t)about.st_size;
    return file;
}

static void open_line(struct line *line, const char *name, const char *copy) {
    line->fd =
        copy != NULL ? simulate(copy) : open(name, O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
    if (line->fd < 0 || !line_set_up(line->fd, number[BAUD]))
        die(name, strerror(errno), line_advice(errno));
}

/* Whether an option can have that value, which then it has. */
static bool set_number(int option, const char *text) {
    static const long most[] = {4000000, 60000, 100, 100, 100, 1000, INT_MAX, INT_MAX, INT_MAX};
    char *end;
    long value = number[option] = strtol(text, &end, 10);
    if (end > text && *end == '\0' && value >= (option <= TRIES) && value <= most[option])
        return true;
    return fprintf(stderr, "flash: '%s': a number from %d to %ld is wanted\n", text,
                   option <= TRIES, most[option]) < 0;
}

/* Returns what follows --simulate, or NULL. */
static const char *parse_options(int argc, char **argv) {
    static const char *const names[] = {"baud",  "timeout", "tries", "loss", "corrupt",
                                        "delay", "seed",    "mute",  "cut",  "simulate"};
    struct option options[NUMBERS + 2] = {0};
    const char *copy = NULL;
    bool right = true;
    for (int i = 0; i <= NUMBERS; i++)
        options[i] = (struct option){names[i], required_argument, NULL, i};
    for (int i; (i = getopt_long(argc, argv, "", options, NULL)) != -1;)
        if (i == NUMBERS)
            copy = optarg;
        else
            right = right && i < NUMBERS && set_number(i, optarg);
    if (right && argc - optind == (copy != NULL ? 1 : 2))
        return copy;
    fputs(
        "usage: flash [--baud N] [--timeout MS] [--tries N] IMAGE LINE\n"
        "       flash --simulate COPY [--loss N] [--corrupt N] [--delay MS] [--seed N] [--mute N]\n"
        "             [--cut N] [--timeout MS] [--tries N] IMAGE\n",
        stderr);
    exit(USAGE);
}

int main(int argc, char **argv) {
    static struct job job;
    const char *copy = parse_options(argc, argv), *image = argv[optind];
    const char *line = copy != NULL ? "simulated device" : argv[optind + 1];
    job.image = open_image(image, &job.size);
    open_line(&job.line, line, copy);
    int code = flash(&job, image, line);
    line_close(&job.line);
    if (copy != NULL)
        wait(NULL);
    return code;
}
