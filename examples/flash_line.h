/* Packets over a serial line: what examples/flash.c sends, and its simulated device answers.

   On the line a packet is a struct packet without the unused end of its data, its numbers in
   little-endian order, between two END bytes and escaped as in RFC 1055, so that the next packet is
   found after any damage. The host sends START, then DATA, then END, with size and CRC of the image;
   each again and again until the device answers with its number: ACK; NAK: it came damaged, once
   more; or REFUSE and a text.

   The functions return MTASK_OK; MTASK_TIMEOUT; MTASK_BROKEN: the line was cut; MTASK_INVALID: what
   came in is damaged. */
#ifndef EXAMPLES_FLASH_LINE_H
#define EXAMPLES_FLASH_LINE_H

#include "mtask.h"
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>
#include <zlib.h>

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

#endif
