// mkdir -p build && cc -O2 -pthread -I. -o build/57_joinall examples/57_joinall.c
//
// gevent's spawn and joinall: four pages are fetched at once, each by a task of its own in which
// every call simply waits; all of it takes as long as the slowest. And one more, from where nobody
// listens: that is the failure of its task alone. (A server in this program, on a port of this
// machine that the system chooses, stands for all four hosts; it lets each request wait for a
// while.)
//
// Output:
//   GET: http://www.python.org/
//   GET: http://www.yahoo.com/
//   GET: http://www.baidu.com/
//   GET: http://www.sina.com.cn/
//   GET: http://nowhere.example/
//   2443 bytes received from http://www.baidu.com/.
//   571512 bytes received from http://www.sina.com.cn/.
//   49083 bytes received from http://www.python.org/.
//   522045 bytes received from http://www.yahoo.com/.
//   nowhere.example: MTASK_SYSTEM, cannot connect: Connection refused
//   cost time: 2.000
#define MTASK_IMPLEMENTATION
#include "mtask_io.h"
#include "common.h"
#include <errno.h>
#include <string.h>

enum { PAGES = 5 };

typedef struct Page {
    const char *host;
    double delay; /* seconds until the server answers */
    size_t size;
} Page;

static const Page pages[PAGES] = {{"www.python.org", 1.5, 49083},
                                  {"www.yahoo.com", 2.0, 522045},
                                  {"www.baidu.com", 0.5, 2443},
                                  {"www.sina.com.cn", 1.0, 571512},
                                  {"nowhere.example", 0, 0}};
static char server_address[MTASK_ADDRESS_TEXT], closed_address[MTASK_ADDRESS_TEXT];

/* ---- the server: a task for each connection ---- */

static void answer(mtask_stream *stream, void *ctx) {
    static const char text[600000];
    const Page *page = NULL;
    char *line;
    (void)ctx;
    while (mtask_stream_read_line(stream, &line, NULL, MTASK_SEC(10)) == MTASK_OK && *line != '\0')
        for (int i = 0; i < PAGES; i++)
            if (strncmp(line, "Host: ", 6) == 0 && strcmp(line + 6, pages[i].host) == 0)
                page = &pages[i];
    if (page == NULL)
        return;
    MUST(mtask_sleep(seconds(page->delay)));
    MUST(mtask_stream_printf(stream, MTASK_SEC(10), "HTTP/1.0 200 OK\r\n\r\n"));
    MUST(mtask_stream_write(stream, text, page->size, MTASK_SEC(10)));
} /* the connection is closed here: that ends the page */

/* ---- the client ---- */

/* Sends a request and returns how long the page is that comes. */
static void *get(mtask_stream *stream, const Page *page) {
    char *line, bytes[4096];
    size_t size = 0, n;
    mtask_status status = mtask_stream_printf(stream, MTASK_SEC(10),
                                              "GET / HTTP/1.0\r\nHost: %s\r\n\r\n", page->host);
    do
        if (status == MTASK_OK)
            status = mtask_stream_read_line(stream, &line, NULL, MTASK_SEC(10));
    while (status == MTASK_OK && *line != '\0'); /* the page comes behind an empty line */
    while (status == MTASK_OK) {
        status = mtask_stream_read(stream, bytes, sizeof bytes, &n, MTASK_SEC(10));
        size += status == MTASK_OK ? n : 0;
    }
    if (status != MTASK_CLOSED)
        return mtask_fail(status, "cannot read: %s", mtask_strerror(status));
    return (void *)(intptr_t)size;
}

static void *fetch(void *arg) {
    const Page *page = (const Page *)arg;
    const char *address = page->size > 0 ? server_address : closed_address;
    mtask_stream *stream;
    printf("GET: http://%s/\n", page->host);
    mtask_status status = mtask_stream_connect(&stream, address, NULL, MTASK_SEC(10));
    if (status != MTASK_OK)
        return mtask_fail(status, "cannot connect: %s", strerror(errno));
    void *size = get(stream, page);
    mtask_stream_destroy(stream);
    if (size != NULL)
        printf("%d bytes received from http://%s/.\n", (int)(intptr_t)size, page->host);
    return size;
}

static void join_all(void) {
    mtask_future *tasks[PAGES];
    mtask_outcome outcome;
    for (int i = 0; i < PAGES; i++)
        MUST(mtask_go(fetch, (void *)&pages[i], &tasks[i]));
    MUST(mtask_futures_wait(tasks, PAGES, MTASK_WAIT_ALL, MTASK_FOREVER));
    for (int i = 0; i < PAGES; i++) {
        if (mtask_future_get(tasks[i], &outcome, MTASK_FOREVER) != MTASK_OK)
            printf("%s: %s, %s\n", pages[i].host, mtask_status_name(outcome.status), outcome.text);
        mtask_future_release(tasks[i]);
    }
}

/* Where a server listens, as a text. */
static void address_of(const mtask_server *server, char *text) {
    mtask_address address;
    MUST(mtask_server_address(server, &address));
    mtask_address_text(&address, text, MTASK_ADDRESS_TEXT);
}

static void *program(void *arg) {
    mtask_server *server, *closed;
    MUST(mtask_server_start(&server, "127.0.0.1:0", answer, NULL)); /* on this loop, too */
    MUST(mtask_server_start(&closed, "127.0.0.1:0", answer, NULL));
    address_of(server, server_address);
    address_of(closed, closed_address);
    MUST(mtask_server_destroy(closed)); /* so nobody listens there */
    int64_t start = mtask_now();
    join_all();
    printf("cost time: %.3f\n", seconds_since(start));
    MUST(mtask_server_destroy(server));
    return arg;
}

int main(void) {
    MUST(mtask_loop_run(program, NULL, NULL));
    return 0;
}
