// mkdir -p build && cc -O2 -pthread -I. -o build/59_web examples/59_web.c
//
// A web application as functions, as in WSGI and aiohttp: app(request, response) knows nothing of
// sockets, and may wait as it likes: here each takes half a second. A table of routes says which
// path leads to which; {name} stands for any text. Below is a small server that calls them, in a
// task for each connection: so a thousand requests at once take half a second, too, on one thread.
//
// `build/59_web ADDRESS` serves there, as in 127.0.0.1:8000 or unix:/tmp/web, until Ctrl-C.
// Otherwise it asks itself, a thousand times (or as `build/59_web -n COUNT` says).
//
// Output (patterns):
//   ^GET /: 200 <h1>Index</h1>$
//   ^GET /hello/Ann: 200 <h1>hello, Ann!</h1>$
//   ^GET /hello/: 404 Not Found$
//   ^GET /nothing: 404 Not Found$
//   ^POST /: 405 Method Not Allowed$
//   ^1000 requests at once, 1000 right answers, [0-9.]+ seconds$
#define MTASK_IMPLEMENTATION
#include "mtask_io.h"
#include "common.h"
#include <string.h>
#include <sys/resource.h>

/* ---- the application ---- */

typedef struct Request {
    char method[16], path[200], name[100]; /* `name` is what stood for {name} in the route */
    bool keep_alive;
} Request;

typedef struct Response {
    int status;
    char body[300];
} Response;

typedef void App(const Request *request, Response *response);

static void index_page(const Request *request, Response *response) {
    (void)request;
    MUST(mtask_sleep(seconds(0.5)));
    snprintf(response->body, sizeof response->body, "<h1>Index</h1>");
}

static void hello(const Request *request, Response *response) {
    MUST(mtask_sleep(seconds(0.5)));
    snprintf(response->body, sizeof response->body, "<h1>hello, %s!</h1>", request->name);
}

static const struct Route {
    const char *method, *path;
    App *app;
} routes[] = {{"GET", "/", index_page}, {"GET", "/hello/{name}", hello}};

/* ---- the server ---- */

/* Whether the path is that of the route; finds the name in it. */
static bool is_path_of(const struct Route *route, Request *request) {
    size_t fixed = strcspn(route->path, "{");
    const char *rest = request->path + fixed;
    if (route->path[fixed] == '\0')
        return strcmp(route->path, request->path) == 0;
    if (strncmp(route->path, request->path, fixed) != 0 || *rest == '\0' ||
        strpbrk(rest, "/<>&") != NULL)
        return false;
    snprintf(request->name, sizeof request->name, "%s", rest);
    return true;
}

static const char *reason(int status) {
    return status == 200 ? "OK" : status == 404 ? "Not Found" : "Method Not Allowed";
}

static void dispatch(Request *request, Response *response) {
    response->status = 404;
    for (size_t i = 0; i < sizeof routes / sizeof *routes; i++)
        if (is_path_of(&routes[i], request)) {
            response->status = 405;
            if (strcmp(request->method, routes[i].method) != 0)
                continue;
            response->status = 200;
            routes[i].app(request, response);
            return;
        }
    snprintf(response->body, sizeof response->body, "%s", reason(response->status));
}

/* Reads a request, without a body. */
static bool read_request(mtask_stream *stream, Request *request) {
    char *line;
    int minor;
    if (mtask_stream_read_line(stream, &line, NULL, MTASK_SEC(10)) != MTASK_OK ||
        sscanf(line, "%15s %199s HTTP/1.%d", request->method, request->path, &minor) != 3)
        return false;
    request->keep_alive = minor > 0;
    while (mtask_stream_read_line(stream, &line, NULL, MTASK_SEC(10)) == MTASK_OK) {
        if (*line == '\0')
            return true;
        if (strcmp(line, "Connection: close") == 0)
            request->keep_alive = false;
    }
    return false;
}

/* Answers requests as long as they come over one connection. */
static void serve(mtask_stream *stream, void *ctx) {
    Request request = {.keep_alive = true};
    (void)ctx;
    while (request.keep_alive && mtask_stream_idle(stream, MTASK_SEC(60)) == MTASK_OK &&
           read_request(stream, &request)) {
        Response response = {0};
        dispatch(&request, &response);
        if (mtask_stream_printf(stream, MTASK_SEC(10),
                                "HTTP/1.1 %d %s\r\nContent-Type: text/html\r\n"
                                "Content-Length: %zu\r\n%s\r\n%s",
                                response.status, reason(response.status), strlen(response.body),
                                request.keep_alive ? "" : "Connection: close\r\n",
                                response.body) != MTASK_OK)
            return;
    }
}

/* ---- a client ---- */

static char address[MTASK_ADDRESS_TEXT];

/* Asks for a path over a connection of its own: the status, and the body in `body`. */
static int ask(const char *method, const char *path, char *body, size_t capacity) {
    mtask_stream *stream;
    char *line;
    int status = 0;
    size_t size = 0;
    MUST(mtask_stream_connect(&stream, address, NULL, MTASK_SEC(60)));
    MUST(mtask_stream_printf(stream, MTASK_SEC(60),
                             "%s %s HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n", method,
                             path));
    MUST(mtask_stream_read_line(stream, &line, NULL, MTASK_SEC(60)));
    sscanf(line, "HTTP/1.1 %d", &status);
    while (mtask_stream_read_line(stream, &line, NULL, MTASK_SEC(60)) == MTASK_OK && *line != '\0')
        sscanf(line, "Content-Length: %zu", &size);
    MUST(size < capacity ? MTASK_OK : MTASK_OVERFLOW);
    MUST(mtask_stream_read_exactly(stream, body, size, NULL, MTASK_SEC(60)));
    body[size] = '\0';
    mtask_stream_destroy(stream);
    return status;
}

static int right; /* answers, of all tasks */

static void *say_hello(void *number) {
    char path[50], body[300], wanted[60];
    snprintf(path, sizeof path, "/hello/%d", (int)(intptr_t)number);
    snprintf(wanted, sizeof wanted, "<h1>hello, %d!</h1>", (int)(intptr_t)number);
    right += ask("GET", path, body, sizeof body) == 200 && strcmp(body, wanted) == 0;
    return NULL;
}

static void ask_all(int count) {
    int64_t start = mtask_now();
    mtask_taskgroup requests;
    MUST(mtask_taskgroup_begin(&requests));
    for (int i = 0; i < count; i++)
        MUST(mtask_taskgroup_go(&requests, say_hello, (void *)(intptr_t)i, NULL));
    MUST(mtask_taskgroup_end(&requests, NULL));
    printf("%d requests at once, %d right answers, %.3f seconds\n", count, right,
           seconds_since(start));
}

static void *demonstrate(void *count) {
    static const char *const asked[][2] = {{"GET", "/"},
                                           {"GET", "/hello/Ann"},
                                           {"GET", "/hello/"},
                                           {"GET", "/nothing"},
                                           {"POST", "/"}};
    mtask_server *server;
    mtask_address at;
    char body[300];
    MUST(mtask_server_start(&server, "127.0.0.1:0", serve, NULL));
    MUST(mtask_server_address(server, &at));
    mtask_address_text(&at, address, sizeof address);
    for (size_t i = 0; i < sizeof asked / sizeof *asked; i++) {
        int status = ask(asked[i][0], asked[i][1], body, sizeof body);
        printf("%s %s: %d %s\n", asked[i][0], asked[i][1], status, body);
    }
    ask_all(*(int *)count);
    MUST(mtask_server_destroy(server));
    return NULL;
}

/* A thousand connections are two thousand descriptors here: their number is often limited to 1024,
   but a program may ask for more. */
static void allow_many_descriptors(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return;
    limit.rlim_cur = limit.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &limit);
}

int main(int argc, char **argv) {
    mtask_serve_desc desc = {.signals = true};
    int count = argc > 2 && strcmp(argv[1], "-n") == 0 ? atoi(argv[2]) : 1000;
    allow_many_descriptors();
    if (argc == 2)
        MUST(mtask_serve(argv[1], serve, &desc));
    else
        MUST(mtask_loop_run(demonstrate, &count, NULL));
    return 0;
}
