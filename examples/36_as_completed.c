// mkdir -p build && cc -O2 -pthread -I. -o build/36_as_completed examples/36_as_completed.c
//
// Five pages are loaded by a pool of five, and handled as they come. One cannot be loaded: that is
// the failure of its future alone. (The pages come from a server in this program, on a port of this
// machine that the system chooses; each after some time, so that the third is the first to arrive.)
//
// Output (any order):
//   'foxnews' page is 31200 bytes
//   'cnn' page is 2500 bytes
//   'wsj' page is 700 bytes
//   'bbc' page is 104000 bytes
//   'nonexistent' generated an exception: MTASK_SYSTEM, connect: Connection refused
//   5 pages took 2.003 seconds
#define MTASK_IMPLEMENTATION
#include "mtask_pool.h"
#include "common.h"
#include <arpa/inet.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

typedef struct Page {
    const char *name;
    size_t size;
    double delay; /* seconds until the server answers */
    struct sockaddr_in server;
} Page;

static Page pages[] = {
    {.name = "foxnews", .size = 31200, .delay = 2.0},
    {.name = "cnn", .size = 2500, .delay = 1.5},
    {.name = "wsj", .size = 700, .delay = 0.5},
    {.name = "bbc", .size = 104000, .delay = 1},
    {.name = "nonexistent"},
};

enum { PAGES = sizeof pages / sizeof *pages };

/* ---- the server ---- */

static bool send_all(int fd, const char *bytes, size_t size) {
    while (size > 0) {
        ssize_t sent = send(fd, bytes, size, MSG_NOSIGNAL);
        if (sent < 0 && errno != EINTR)
            return false;
        bytes += sent > 0 ? sent : 0;
        size -= sent > 0 ? (size_t)sent : 0;
    }
    return true;
}

static void answer(int fd, const Page *page) {
    static const char text[104000];
    char head[100];
    int length =
        snprintf(head, sizeof head, "HTTP/1.0 200 OK\r\nContent-Length: %zu\r\n\r\n", page->size);
    MUST(mtask_sleep(seconds(page->delay)));
    if (!send_all(fd, head, (size_t)length) || !send_all(fd, text, page->size))
        perror("server");
}

/* Accepts one connection, reads its request and answers it. */
static void *serve(void *arg) {
    int fd = accept(*(int *)arg, NULL, NULL);
    char request[200] = "", name[31] = "";
    size_t n = 0;
    ssize_t got = fd;
    while (got >= 0 && n < sizeof request - 1 && strstr(request, "\r\n\r\n") == NULL &&
           (got = recv(fd, request + n, sizeof request - 1 - n, 0)) > 0)
        n += (size_t)got;
    if (got >= 0 && sscanf(request, "GET /%30s HTTP/", name) == 1)
        for (int i = 0; i < PAGES; i++)
            if (strcmp(pages[i].name, name) == 0)
                answer(fd, &pages[i]);
    if (fd >= 0)
        close(fd);
    return NULL;
}

static int make_socket(int64_t patience) {
    struct timeval time = {.tv_sec = (time_t)(patience / MTASK_SEC(1)), .tv_usec = 1};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd >= 0) {
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &time, sizeof time);
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &time, sizeof time);
    }
    return fd;
}

/* Binds a socket to a port that is free, and tells which one. */
static int bind_any(struct sockaddr_in *address) {
    socklen_t length = sizeof *address;
    int fd = make_socket(MTASK_SEC(10));
    *address = (struct sockaddr_in){.sin_family = AF_INET};
    address->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd < 0 || bind(fd, (struct sockaddr *)address, length) != 0 ||
        getsockname(fd, (struct sockaddr *)address, &length) != 0) {
        perror("cannot make a server");
        exit(EXIT_FAILURE);
    }
    return fd;
}

/* ---- the client ---- */

/* What came from the server. */
typedef struct Data {
    size_t size;
    char bytes[1]; /* and a zero behind them */
} Data;

static void *failed(const char *call) {
    return mtask_fail(MTASK_SYSTEM, "%s: %s", call, strerror(errno));
}

/* Reads all that comes. */
static void *receive(int fd) {
    size_t capacity = 4096;
    Data *data = (Data *)malloc(sizeof *data + capacity), *bigger = data;
    ssize_t got = 0;
    for (size_t n = 0; bigger != NULL; n += (size_t)got) {
        data = bigger;
        data->size = n;
        data->bytes[n] = '\0';
        got = recv(fd, data->bytes + n, capacity - n, 0);
        if (got <= 0)
            break;
        if (n + (size_t)got == capacity)
            bigger = (Data *)realloc(data, sizeof *data + (capacity *= 2));
    }
    if (bigger != NULL && got == 0)
        return data;
    void *failure = bigger == NULL ? mtask_fail(MTASK_NOMEM, NULL) : failed("recv");
    free(data);
    return failure;
}

static void *load_from(int fd, const Page *page) {
    char request[100];
    int length = snprintf(request, sizeof request, "GET /%s HTTP/1.0\r\n\r\n", page->name);
    if (connect(fd, (const struct sockaddr *)&page->server, sizeof page->server) != 0)
        return failed("connect");
    if (!send_all(fd, request, (size_t)length))
        return failed("send");
    return receive(fd);
}

static void *load_url(void *arg) {
    int fd = make_socket(MTASK_SEC(10));
    if (fd < 0)
        return failed("socket");
    void *data = load_from(fd, (const Page *)arg);
    close(fd);
    return data;
}

/* Where the page begins behind the head of the answer, and its size; NULL if it is not all there. */
static const char *page_of(const Data *data, size_t *size) {
    const char *end = strstr(data->bytes, "\r\n\r\n");
    if (end == NULL || sscanf(data->bytes, "HTTP/1.0 200 OK\r\nContent-Length: %zu", size) != 1)
        return NULL;
    return data->size - (size_t)(end + 4 - data->bytes) == *size ? end + 4 : NULL;
}

static void handle(const Page *page, mtask_future *future) {
    mtask_outcome outcome;
    size_t size;
    if (mtask_future_get(future, &outcome, MTASK_FOREVER) != MTASK_OK)
        printf("'%s' generated an exception: %s, %s\n", page->name,
               mtask_status_name(outcome.status), outcome.text);
    else if (page_of((const Data *)outcome.value, &size) == NULL)
        printf("'%s' came, but not all of it\n", page->name);
    else
        printf("'%s' page is %zu bytes\n", page->name, size);
    free(outcome.value);
    mtask_future_release(future);
}

static void load_all(mtask_pool *executor) {
    mtask_completed *completed;
    mtask_future *futures[PAGES], *future;
    size_t i;
    for (i = 0; i < PAGES; i++) {
        mtask_task_desc task = {.fn = load_url, .arg = &pages[i], .free_value = free};
        MUST(mtask_pool_submit_ex(executor, &task, &futures[i], MTASK_FOREVER));
    }
    MUST(mtask_as_completed(futures, PAGES, &completed));
    while (mtask_completed_next(completed, &future, &i, MTASK_FOREVER) == MTASK_OK)
        handle(&pages[i], future);
    mtask_completed_close(completed);
}

int main(void) {
    mtask_pool *servers, *executor;
    mtask_pool_desc desc = {.workers = PAGES};
    struct sockaddr_in address, closed;
    int listener = bind_any(&address), closed_port = bind_any(&closed); /* nobody listens there */
    int64_t start = mtask_now();

    MUST(listen(listener, PAGES) == 0 ? MTASK_OK : MTASK_SYSTEM);
    MUST(mtask_pool_create(&servers, &desc));
    MUST(mtask_pool_create(&executor, &desc));
    for (int i = 0; i < PAGES; i++)
        pages[i].server = pages[i].size > 0 ? address : closed;
    for (int i = 0; i < PAGES - 1; i++)
        MUST(mtask_pool_post(servers, serve, &listener));

    load_all(executor);
    printf("%d pages took %.3f seconds\n", PAGES, seconds_since(start));
    MUST(mtask_pool_destroy(executor));
    MUST(mtask_pool_destroy(servers));
    close(listener);
    close(closed_port);
    return 0;
}
