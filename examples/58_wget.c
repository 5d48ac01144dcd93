// mkdir -p build && cc -O2 -pthread -I. -o build/58_wget examples/58_wget.c
//
// asyncio's wget of three hosts: open a connection, write a request, print the head of the answer
// line by line, close. Three tasks do that at the same time, and their lines come mixed, as the
// servers send them. `build/58_wget HOST...` asks real hosts, on port 80; without arguments, three
// servers in this program stand for them, each of which takes its time for every line.
//
// Output (in order by first word):
//   wget www.sina.com.cn...
//   wget www.sohu.com...
//   wget www.163.com...
//   www.sina.com.cn header > HTTP/1.1 302 Moved Temporarily
//   www.sohu.com header > HTTP/1.1 200 OK
//   www.163.com header > HTTP/1.1 301 Moved Permanently
//   www.sina.com.cn header > Server: edge
//   www.sohu.com header > Content-Type: text/html
//   www.163.com header > Server: web cache
//   www.sina.com.cn header > Location: https://www.sina.com.cn/
//   www.sohu.com header > Content-Length: 9
//   www.163.com header > Location: https://www.163.com/
//   www.sina.com.cn header > Connection: close
//   www.sohu.com header > Connection: close
//   www.163.com header > Connection: close
#define MTASK_IMPLEMENTATION
#include "mtask_io.h"
#include "common.h"
#include <errno.h>
#include <string.h>

enum { HOSTS = 3, HOSTS_MAX = 100 };

typedef struct Host {
    const char *name;
    char address[300];
    const char *head[5]; /* what its server sends */
    mtask_server *server;
} Host;

static Host hosts[HOSTS_MAX] = {
    {.name = "www.sina.com.cn",
     .head = {"HTTP/1.1 302 Moved Temporarily", "Server: edge",
              "Location: https://www.sina.com.cn/", "Connection: close", ""}},
    {.name = "www.sohu.com",
     .head = {"HTTP/1.1 200 OK", "Content-Type: text/html", "Content-Length: 9",
              "Connection: close", ""}},
    {.name = "www.163.com",
     .head = {"HTTP/1.1 301 Moved Permanently", "Server: web cache",
              "Location: https://www.163.com/", "Connection: close", ""}}};

/* ---- the servers ---- */

static void serve_slowly(mtask_stream *stream, void *ctx) {
    const Host *host = (const Host *)ctx;
    char *line;
    while (mtask_stream_read_line(stream, &line, NULL, MTASK_SEC(10)) == MTASK_OK && *line != '\0')
        continue;
    for (int i = 0; i < 5; i++) {
        MUST(mtask_sleep(seconds(0.3)));
        if (mtask_stream_printf(stream, MTASK_SEC(10), "%s\r\n", host->head[i]) != MTASK_OK ||
            mtask_stream_drain(stream, MTASK_SEC(10)) != MTASK_OK)
            return;
    }
    (void)mtask_stream_printf(stream, MTASK_SEC(10), "The body."); /* if it is still there */
}

static void start_server(Host *host) {
    mtask_serve_desc desc = {.ctx = host};
    mtask_address address;
    MUST(mtask_server_start(&host->server, "127.0.0.1:0", serve_slowly, &desc));
    MUST(mtask_server_address(host->server, &address));
    mtask_address_text(&address, host->address, sizeof host->address);
}

/* ---- the client ---- */

static void *failed(const Host *host, mtask_status status) {
    return mtask_fail(status, "%s: %s", host->name,
                      status == MTASK_SYSTEM ? strerror(errno) : mtask_strerror(status));
}

static void *print_head(mtask_stream *stream, const Host *host) {
    char *line;
    mtask_status status = mtask_stream_printf(stream, MTASK_SEC(10),
                                              "GET / HTTP/1.0\r\nHost: %s\r\n\r\n", host->name);
    while (status == MTASK_OK) {
        status = mtask_stream_read_line(stream, &line, NULL, MTASK_SEC(10));
        if (status == MTASK_OK && *line == '\0')
            return NULL; /* what follows is the body */
        if (status == MTASK_OK)
            printf("%s header > %s\n", host->name, line);
    }
    return failed(host, status);
}

static void *wget(void *arg) {
    const Host *host = (const Host *)arg;
    mtask_stream *stream;
    printf("wget %s...\n", host->name);
    mtask_status status = mtask_stream_connect(&stream, host->address, NULL, MTASK_SEC(10));
    if (status != MTASK_OK)
        return failed(host, status);
    void *result = print_head(stream, host);
    mtask_stream_destroy(stream);
    return result;
}

/* Asks the hosts; the return value is how many did not answer. */
static intptr_t wget_all(size_t count) {
    mtask_future *tasks[HOSTS_MAX];
    mtask_outcome outcome;
    intptr_t errors = 0;
    for (size_t i = 0; i < count; i++)
        MUST(mtask_go(wget, &hosts[i], &tasks[i]));
    for (size_t i = 0; i < count; i++) {
        if (mtask_future_get(tasks[i], &outcome, MTASK_FOREVER) != MTASK_OK) {
            fprintf(stderr, "58_wget: %s\n", outcome.text);
            errors++;
        }
        mtask_future_release(tasks[i]);
    }
    return errors;
}

static void *program(void *names) {
    size_t count = 0;
    for (char **name = (char **)names; *name != NULL && count < HOSTS_MAX; name++, count++) {
        hosts[count].name = *name;
        snprintf(hosts[count].address, sizeof hosts[count].address, "%s:80", *name);
    }
    if (count > 0)
        return (void *)wget_all(count);
    for (int i = 0; i < HOSTS; i++)
        start_server(&hosts[i]);
    intptr_t errors = wget_all(HOSTS);
    for (int i = 0; i < HOSTS; i++)
        MUST(mtask_server_destroy(hosts[i].server));
    return (void *)errors;
}

int main(int argc, char **argv) {
    mtask_outcome outcome;
    (void)argc;
    MUST(mtask_loop_run(program, argv + 1, &outcome));
    return outcome.value != NULL;
}
