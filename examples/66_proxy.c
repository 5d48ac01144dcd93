// mkdir -p build && cc -O2 -pthread -I. -o build/66_proxy examples/66_proxy.c
//
// A TCP proxy: `build/66_proxy LISTEN TARGET` hands each connection on to TARGET, until Ctrl-C. A
// pair of tasks copies, one in each direction. They end apart: when one side has said all, that is
// passed on as it is, and the other direction stays open for the answer. When one of them fails,
// its group ends the other one at once.
//
// Without arguments it stands before a server that adds up numbers, and gives the sum when the
// client has no more of them; then before one that is gone.
//
// Output (in order by first word):
//   client: sent the numbers from 1 to 100000, and that they are all
//   client: the sum is 5000050000
//   proxy: 588895 bytes there, 11 back; MTASK_OK
//   proxy: no target: Connection refused
//   client: the connection is closed
#define MTASK_IMPLEMENTATION
#include "mtask_io.h"
#include "common.h"
#include <errno.h>
#include <string.h>

/* ---- the proxy ---- */

typedef struct Way {
    mtask_stream *from, *to;
    size_t bytes; /* copied so far */
} Way;

/* Copies one direction, up to its end. */
static void *copy(void *arg) {
    Way *way = (Way *)arg;
    char bytes[16384];
    size_t n;
    mtask_status status;
    while ((status = mtask_stream_read(way->from, bytes, sizeof bytes, &n, MTASK_FOREVER)) ==
           MTASK_OK) {
        status =
            mtask_stream_write(way->to, bytes, n, MTASK_FOREVER); /* who reads slowly slows us */
        if (status != MTASK_OK)
            break;
        way->bytes += n;
    }
    if (status == MTASK_CLOSED) /* that is all: say so, and no more */
        status = mtask_stream_shutdown(way->to, MTASK_FOREVER);
    return status == MTASK_OK ? NULL : mtask_fail(status, NULL);
}

static void relay(mtask_stream *client, void *target) {
    mtask_stream *server;
    mtask_taskgroup both;
    mtask_status status = mtask_stream_connect(&server, (const char *)target, NULL, MTASK_SEC(60));
    if (status != MTASK_OK) {
        printf("proxy: no target: %s\n",
               status == MTASK_SYSTEM ? strerror(errno) : mtask_strerror(status));
        return; /* which closes the connection */
    }
    Way there = {.from = client, .to = server}, back = {.from = server, .to = client};
    MUST(mtask_taskgroup_begin(&both));
    MUST(mtask_taskgroup_go(&both, copy, &there, NULL));
    MUST(mtask_taskgroup_go(&both, copy, &back, NULL));
    status = mtask_taskgroup_end(&both, NULL);
    printf("proxy: %zu bytes there, %zu back; %s\n", there.bytes, back.bytes,
           mtask_status_name(status));
    if (status != MTASK_OK)
        mtask_stream_abort(client); /* what was no proper end must not look like one */
    mtask_stream_destroy(server);
}

/* ---- before a server ---- */

static void add_up(mtask_stream *stream, void *ctx) {
    long long sum = 0;
    char *line;
    (void)ctx;
    while (mtask_stream_read_line(stream, &line, NULL, MTASK_SEC(60)) == MTASK_OK)
        sum += atoll(line);
    (void)mtask_stream_printf(stream, MTASK_SEC(60), "%lld\n", sum);
}

static void ask_for_sum(const char *proxy) {
    mtask_stream *stream;
    char *line;
    int count = 0;
    MUST(mtask_stream_connect(&stream, proxy, NULL, MTASK_SEC(60)));
    while (count < 100000)
        MUST(mtask_stream_printf(stream, MTASK_SEC(60), "%d\n", ++count));
    MUST(mtask_stream_shutdown(stream, MTASK_SEC(60)));
    printf("client: sent the numbers from 1 to %d, and that they are all\n", count);
    MUST(mtask_stream_read_line(stream, &line, NULL, MTASK_SEC(60)));
    printf("client: the sum is %s\n", line);
    mtask_stream_destroy(stream);
}

static void ask_in_vain(const char *proxy) {
    mtask_stream *stream;
    char *line;
    MUST(mtask_stream_connect(&stream, proxy, NULL, MTASK_SEC(60)));
    if (mtask_stream_read_line(stream, &line, NULL, MTASK_SEC(60)) == MTASK_CLOSED)
        printf("client: the connection is closed\n");
    mtask_stream_destroy(stream);
}

/* Starts a server on a port that is free; `address` receives where it listens. */
static mtask_server *start(mtask_handler *handler, void *ctx, char *address) {
    mtask_serve_desc desc = {.ctx = ctx};
    mtask_server *server;
    mtask_address at;
    MUST(mtask_server_start(&server, "127.0.0.1:0", handler, &desc));
    MUST(mtask_server_address(server, &at));
    mtask_address_text(&at, address, MTASK_ADDRESS_TEXT);
    return server;
}

static void *demonstrate(void *arg) {
    char target[MTASK_ADDRESS_TEXT], address[MTASK_ADDRESS_TEXT];
    mtask_server *server = start(add_up, NULL, target), *proxy = start(relay, target, address);
    ask_for_sum(address);
    MUST(mtask_server_destroy(server));
    ask_in_vain(address);
    MUST(mtask_server_destroy(proxy));
    return arg;
}

int main(int argc, char **argv) {
    mtask_serve_desc desc = {.signals = true};
    if (argc == 3) {
        desc.ctx = argv[2];
        MUST(mtask_serve(argv[1], relay, &desc));
    } else {
        MUST(mtask_loop_run(demonstrate, NULL, NULL));
    }
    return 0;
}
