// flags: -luv
/* peer_io_uv.c echo|close - libuv as a server on a free port of 127.0.0.1, which it prints first;
   `version` prints libuv's. `echo` sends back what comes, `close` closes each connection once
   something has come; bench_io.c has the same two on streams of mtask.

   As lean as libuv allows: one buffer for all, since each read is done with when its callback
   returns, and an answer is written at once (uv_try_write), as long as the system takes it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#define BACKLOG 4096

static char buffer[16384];

static void lend(uv_handle_t *handle, size_t wanted, uv_buf_t *lent) {
    (void)handle;
    (void)wanted;
    *lent = uv_buf_init(buffer, sizeof buffer);
}

static void gone(uv_handle_t *handle) {
    free(handle);
}

/* What the system did not take at once. */
typedef struct rest {
    uv_write_t request;
    char data[];
} rest;

static void written(uv_write_t *request, int status) {
    if (status < 0 && !uv_is_closing((uv_handle_t *)request->handle))
        uv_close((uv_handle_t *)request->handle, gone);
    free(request);
}

static void write_later(uv_stream_t *stream, const char *data, size_t size) {
    rest *left = malloc(sizeof *left + size);
    uv_buf_t piece;
    if (left == NULL)
        abort();
    memcpy(left->data, data, size);
    piece = uv_buf_init(left->data, (unsigned)size);
    if (uv_write(&left->request, stream, &piece, 1, written) != 0)
        abort();
}

static void echo(uv_stream_t *stream, ssize_t count, const uv_buf_t *read) {
    uv_buf_t answer = uv_buf_init(read->base, count > 0 ? (unsigned)count : 0);
    int sent;
    if (count == 0)
        return;
    if (count < 0) {
        uv_close((uv_handle_t *)stream, gone);
        return;
    }
    sent = uv_try_write(stream, &answer, 1);
    if (sent < 0 && sent != UV_EAGAIN)
        uv_close((uv_handle_t *)stream, gone);
    else if (sent < (int)count)
        write_later(stream, read->base + (sent > 0 ? sent : 0),
                    (size_t)(count - (sent > 0 ? sent : 0)));
}

static void end(uv_stream_t *stream, ssize_t count, const uv_buf_t *read) {
    (void)read;
    if (count != 0)
        uv_close((uv_handle_t *)stream, gone);
}

static uv_read_cb on_read;

static void accepted(uv_stream_t *listener, int status) {
    uv_tcp_t *client = malloc(sizeof *client);
    if (client == NULL || status < 0 || uv_tcp_init(listener->loop, client) != 0)
        abort();
    if (uv_accept(listener, (uv_stream_t *)client) != 0 ||
        (on_read == echo && uv_tcp_nodelay(client, 1) != 0) ||
        uv_read_start((uv_stream_t *)client, lend, on_read) != 0)
        uv_close((uv_handle_t *)client, gone);
}

static int serve(void) {
    uv_loop_t *loop = uv_default_loop();
    struct sockaddr_in address;
    int size = sizeof address;
    uv_tcp_t listener;
    uv_ip4_addr("127.0.0.1", 0, &address);
    if (uv_tcp_init(loop, &listener) != 0 ||
        uv_tcp_bind(&listener, (struct sockaddr *)&address, 0) != 0 ||
        uv_listen((uv_stream_t *)&listener, BACKLOG, accepted) != 0 ||
        uv_tcp_getsockname(&listener, (struct sockaddr *)&address, &size) != 0)
        return 1;
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    return uv_run(loop, UV_RUN_DEFAULT);
}

int main(int argc, char **argv) {
    const char *what = argc > 1 ? argv[1] : "";
    if (strcmp(what, "version") == 0)
        return puts(uv_version_string()) < 0;
    on_read = strcmp(what, "echo") == 0 ? echo : strcmp(what, "close") == 0 ? end : NULL;
    if (on_read == NULL) {
        fprintf(stderr, "peer_io_uv: no server '%s'\n", what);
        return 2;
    }
    return serve();
}
