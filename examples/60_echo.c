// mkdir -p build && cc -O2 -pthread -I. -o build/60_echo examples/60_echo.c
//
// An echo server, by TCP, by a Unix socket and by UDP. For streams there is one handler, which
// runs in a task for each connection; the client ends its own direction when it has said all, and
// reads on: so both know where the end is. Datagrams can be lost, here each first one is: who gets
// no answer asks again. The servers run in a thread, with a loop; the client is the main thread,
// and has none: there, the same calls block.
//
// Output:
//   tcp: sent 3 lines: one, two, three
//   tcp: got one
//   tcp: got two
//   tcp: got three
//   unix: sent 3 lines: one, two, three
//   unix: got one
//   unix: got two
//   unix: got three
//   udp: no answer to one, again
//   udp: got one
//   udp: no answer to two, again
//   udp: got two
//   udp: no answer to three, again
//   udp: got three
#define MTASK_IMPLEMENTATION
#include "mtask_io.h"
#include "common.h"
#include <string.h>
#include <unistd.h>

static const char *const words[] = {"one", "two", "three"};
enum { WORDS = 3 };

/* ---- the servers ---- */

static void echo(mtask_stream *stream, void *ctx) {
    char bytes[1024];
    size_t n;
    (void)ctx;
    while (mtask_stream_read(stream, bytes, sizeof bytes, &n, MTASK_SEC(60)) == MTASK_OK)
        if (mtask_stream_write(stream, bytes, n, MTASK_SEC(60)) != MTASK_OK)
            return;
} /* what is left is sent, and the connection closed */

/* Until somebody closes the socket. */
static void *echo_datagrams(void *socket) {
    int fd = *(int *)socket;
    char bytes[1024], lost[1024] = "";
    mtask_address from;
    size_t n;
    while (mtask_io_recvfrom(fd, bytes, sizeof bytes - 1, &n, &from, MTASK_FOREVER) == MTASK_OK) {
        bytes[n] = '\0';
        if (strcmp(bytes, lost) != 0) /* seen for the first time: the network loses it */
            strcpy(lost, bytes);
        else if (mtask_io_sendto(fd, bytes, n, &from, MTASK_SEC(60)) != MTASK_OK)
            break;
    }
    return NULL;
}

/* ---- the client ---- */

static void talk(const char *name, const char *address) {
    mtask_stream *stream;
    mtask_status status;
    char *line;
    MUST(mtask_stream_connect(&stream, address, NULL, MTASK_SEC(60)));
    for (int i = 0; i < WORDS; i++)
        MUST(mtask_stream_printf(stream, MTASK_SEC(60), "%s\n", words[i]));
    MUST(mtask_stream_shutdown(stream, MTASK_SEC(60))); /* no more comes; reading goes on */
    printf("%s: sent %d lines: %s, %s, %s\n", name, WORDS, words[0], words[1], words[2]);
    while ((status = mtask_stream_read_line(stream, &line, NULL, MTASK_SEC(60))) == MTASK_OK)
        printf("%s: got %s\n", name, line);
    MUST(status == MTASK_CLOSED ? MTASK_OK : status);
    mtask_stream_destroy(stream);
}

/* Sends a word until it comes back. */
static void talk_by_datagrams(const char *word, const char *address) {
    char bytes[100];
    size_t n;
    int fd;
    mtask_status status;
    MUST(mtask_udp_open(&fd, NULL, address, MTASK_SEC(60)));
    do {
        MUST(mtask_io_sendto(fd, word, strlen(word), NULL, MTASK_SEC(60)));
        status = mtask_io_recvfrom(fd, bytes, sizeof bytes, &n, NULL, seconds(1));
        if (status == MTASK_TIMEOUT)
            printf("udp: no answer to %s, again\n", word);
    } while (status == MTASK_TIMEOUT);
    MUST(status);
    printf("udp: got %.*s\n", (int)n, bytes);
    MUST(mtask_io_close(fd));
}

static void talk_to(const char *name, const char *listen) {
    mtask_server *server;
    mtask_address address;
    char text[MTASK_ADDRESS_TEXT];
    MUST(mtask_server_start(&server, listen, echo, NULL)); /* in a thread: here is no loop */
    MUST(mtask_server_address(server, &address));
    talk(name, mtask_address_text(&address, text, sizeof text));
    MUST(mtask_server_destroy(server));
}

int main(void) {
    char directory[] = "/tmp/60_echo.XXXXXX", path[60], text[MTASK_ADDRESS_TEXT];
    mtask_address address;
    mtask_thread thread = {0};
    int fd;
    MUST(mkdtemp(directory) != NULL ? MTASK_OK : MTASK_SYSTEM);
    snprintf(path, sizeof path, "unix:%s/echo", directory);
    talk_to("tcp", "127.0.0.1:0");
    talk_to("unix", path);
    MUST(rmdir(directory) == 0 ? MTASK_OK : MTASK_SYSTEM); /* the server has removed its socket */

    MUST(mtask_udp_open(&fd, "127.0.0.1:0", NULL, MTASK_SEC(60)));
    MUST(mtask_io_local(fd, &address));
    MUST(mtask_thread_start(&thread, echo_datagrams, &fd));
    for (int i = 0; i < WORDS; i++)
        talk_by_datagrams(words[i], mtask_address_text(&address, text, sizeof text));
    MUST(mtask_io_close(fd)); /* the thread is told */
    MUST(mtask_thread_join(&thread, NULL, MTASK_FOREVER));
    return 0;
}
