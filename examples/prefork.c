// mkdir -p build && cc -O2 -pthread -I. -o build/prefork examples/prefork.c -lhttp_parser
/* prefork: a web server of several processes.

       prefork [-p ADDRESS] [-n WORKERS] [-f FILE] [-g SECONDS]

   Listens on ADDRESS: a port, or what mtask_tcp_listen knows (default: 127.0.0.1:8080; port 0: a
   free one), and prints it. WORKERS processes (default: one for each CPU) accept from that one
   socket. GET / answers a greeting, the text in FILE if there is one; /slow does so after half a
   second; /primes/N counts the primes below N, which keeps its process busy for a while, and only
   that; /crash kills it. The field Served-By of each response is the number of the process.

   A worker that dies is replaced. SIGHUP reads FILE again and replaces all workers, without losing
   a request: new ones start, old ones accept no more, answer what they have been asked, and end.
   SIGTERM and SIGINT end the server in that way; again, at once. What takes longer than -g seconds
   (default: 10) is cut off. What happens stands on standard error.

   How: the parent has one thread and no loop. It waits for signals, of which SIGCHLD is one, and
   starts workers by fork: they inherit the socket, so that connections which wait there are lost by
   nobody's end. A worker has a loop, and in it a task for each connection. Told to stop, it answers
   the next request of each connection with `Connection: close`; a connection without one has a
   second left for it. If the parent is killed, the system kills the workers (daemon). */

#define MTASK_IMPLEMENTATION
#include "mtask_proc.h"
#include "common.h"
#include <errno.h>
#include <http_parser.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

enum {
    URL_ROOM = 512,       /* bytes of a request's URL */
    TEXT_LIMIT = 1 << 20, /* bytes of FILE */
    MOST_WORKERS = 256,
    USAGE = 2 /* exit status */
};

static struct {
    const char *address, *file;
    unsigned workers;
    int64_t grace;
} options = {.address = "127.0.0.1:8080", .grace = MTASK_SEC(10)};

static const int64_t patience = MTASK_SEC(30); /* for a request, and for its answer to be taken */
static const int64_t idle = MTASK_SEC(75);     /* between two requests */

static int listener;
static char *greeting; /* what / answers */
static size_t greeting_size;

/* ---- requests ---- */

struct request {
    http_parser parser; /* knows method, version, and whether the connection goes on */
    char url[URL_ROOM]; /* cut off if it is longer */
    size_t url_size;
    bool ended; /* all of it has been read; a body is read and dropped */
};

static int on_url(http_parser *parser, const char *at, size_t size) {
    struct request *request = parser->data;
    size_t room = sizeof request->url - 1 - request->url_size;
    size = size < room ? size : room;
    memcpy(request->url + request->url_size, at, size);
    request->url_size += size;
    return 0;
}

static int on_end(http_parser *parser) {
    ((struct request *)parser->data)->ended = true;
    http_parser_pause(parser, 1); /* what follows is the next request */
    return 0;
}

static const http_parser_settings callbacks = {.on_url = on_url, .on_message_complete = on_end};

/* MTASK_INVALID: what comes is no request. */
static mtask_status read_request(struct request *request, mtask_stream *stream) {
    int64_t deadline = mtask_deadline(patience);
    memset(request, 0, sizeof *request);
    http_parser_init(&request->parser, HTTP_REQUEST);
    request->parser.data = request;
    while (!request->ended) {
        const char *data;
        size_t size;
        mtask_status status = mtask_stream_fill(stream, 1, &data, &size, mtask_until(deadline));
        if (status != MTASK_OK)
            return status;
        size_t parsed = http_parser_execute(&request->parser, &callbacks, data, size);
        if (HTTP_PARSER_ERRNO(&request->parser) != HPE_OK && !request->ended)
            return MTASK_INVALID;
        MUST(mtask_stream_skip(stream, parsed));
    }
    return MTASK_OK;
}

/* ---- responses: the application ---- */

struct response {
    int status;
    const char *body;
    size_t size;
    char text[64]; /* where a short body can lie */
};

static void answer_text(struct response *response, int status, const char *text) {
    response->status = status;
    response->body = text;
    response->size = strlen(text);
}

/* Slowly, without a pause: other connections of this process wait, those of others do not. */
static unsigned long count_primes(unsigned long below) {
    unsigned long count = 0;
    for (unsigned long n = 2; n < below; n++) {
        unsigned long divisor = 2;
        while (divisor * divisor <= n && n % divisor != 0)
            divisor++;
        count += divisor * divisor > n;
    }
    return count;
}

static void app(const struct request *request, struct response *response) {
    const char *url = request->url;
    unsigned long n;
    response->status = 200;
    response->body = greeting;
    response->size = greeting_size;
    if (request->parser.method != HTTP_GET && request->parser.method != HTTP_HEAD) {
        answer_text(response, 405, "GET, please.\n");
    } else if (strcmp(url, "/slow") == 0) {
        if (mtask_sleep(seconds(0.5)) != MTASK_OK) /* cut off */
            answer_text(response, 503, "The server ends.\n");
    } else if (sscanf(url, "/primes/%lu", &n) == 1) {
        snprintf(response->text, sizeof response->text, "%lu\n", count_primes(n));
        answer_text(response, 200, response->text);
    } else if (strcmp(url, "/crash") == 0) {
        raise(SIGKILL);
    } else if (strcmp(url, "/") != 0) {
        answer_text(response, 404, "There is no such page.\n");
    }
}

static const char *reason(int status) {
    return status == 200   ? "OK"
           : status == 400 ? "Bad Request"
           : status == 404 ? "Not Found"
           : status == 405 ? "Method Not Allowed"
                           : "Service Unavailable";
}

/* ---- a worker ---- */

static struct {
    int stop[2];   /* a pipe; its end can be read once the worker is to stop */
    bool stopping; /* it is */
    size_t requests;
} self;

/* Waits for input. MTASK_CLOSED: the worker is to stop. */
static mtask_status wait_for_input(int fd, int64_t timeout) {
    mtask_io_case cases[] = {{.fd = fd, .events = MTASK_IO_READ},
                             {.fd = self.stop[0], .events = MTASK_IO_READ}};
    mtask_status status = self.stopping ? MTASK_CLOSED : mtask_io_select(cases, 2, timeout);
    return self.stopping ? MTASK_CLOSED : status;
}

/* Waits for the next request. A connection that is idle when the worker is to stop has a little time
   left for a last one: it may be on its way. */
static mtask_status wait_for_request(mtask_stream *stream) {
    const char *data;
    size_t size;
    mtask_status status = mtask_stream_fill(stream, 1, &data, &size, MTASK_NOWAIT);
    if (status != MTASK_TIMEOUT)
        return status;
    status = mtask_stream_drain(stream, patience);
    if (status == MTASK_OK)
        status = wait_for_input(mtask_stream_fd(stream), idle);
    if (status == MTASK_CLOSED && self.stopping)
        status = mtask_stream_fill(stream, 1, &data, &size, seconds(1));
    return status;
}

static bool send_response(mtask_stream *stream, const struct request *request,
                          const struct response *response, bool keep) {
    const char *connection = !keep                             ? "Connection: close\r\n"
                             : request->parser.http_minor == 0 ? "Connection: keep-alive\r\n"
                                                               : "";
    mtask_status status = mtask_stream_printf(
        stream, patience,
        "HTTP/1.1 %d %s\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: %zu\r\n"
        "Served-By: %d\r\n%s\r\n",
        response->status, reason(response->status), response->size, (int)getpid(), connection);
    if (status == MTASK_OK && request->parser.method != HTTP_HEAD)
        status = mtask_stream_write(stream, response->body, response->size, patience);
    return status == MTASK_OK;
}

/* Reads and answers a request. Returns whether another one may follow. */
static bool serve_request(mtask_stream *stream) {
    struct request request;
    struct response response;
    mtask_status status = read_request(&request, stream);
    if (status != MTASK_OK && status != MTASK_INVALID)
        return false;
    if (status == MTASK_OK)
        app(&request, &response);
    else
        answer_text(&response, 400, "That is no request.\n");
    bool keep = status == MTASK_OK && !self.stopping && !request.parser.upgrade &&
                http_should_keep_alive(&request.parser);
    self.requests++;
    return send_response(stream, &request, &response, keep) && keep;
}

/* Closes it so that the last answer arrives: while input is left unread, a close would be a reset. */
static void close_gently(mtask_stream *stream) {
    int64_t deadline = mtask_deadline(seconds(1));
    const char *data;
    size_t size;
    if (mtask_stream_shutdown(stream, patience) == MTASK_OK)
        while (mtask_stream_fill(stream, 1, &data, &size, mtask_until(deadline)) == MTASK_OK)
            (void)mtask_stream_skip(stream, size);
    mtask_stream_destroy(stream);
}

/* The task of a connection. */
static void *serve(void *arg) {
    int fd = (int)(intptr_t)arg;
    mtask_stream *stream;
    if (mtask_stream_open(&stream, fd, NULL) != MTASK_OK) {
        (void)mtask_io_close(fd);
        return NULL;
    }
    while (wait_for_request(stream) == MTASK_OK && serve_request(stream))
        continue;
    close_gently(stream);
    return NULL;
}

/* The task that ends a worker. */
static void *wait_for_stop(void *signals) {
    int number;
    (void)mtask_signals_wait((mtask_signals *)signals, &number, MTASK_FOREVER);
    self.stopping = true;
    (void)mtask_io_close(self.stop[1]);
    return NULL;
}

static void accept_all(mtask_taskgroup *connections) {
    while (!self.stopping) {
        int fd;
        mtask_status status = mtask_tcp_accept(listener, &fd, NULL, MTASK_NOWAIT);
        if (status == MTASK_OK)
            status = mtask_taskgroup_go(connections, serve, (void *)(intptr_t)fd, NULL);
        if (status == MTASK_OK)
            (void)mtask_yield(); /* one at a time: others may be idle */
        else if (status == MTASK_TIMEOUT)
            (void)wait_for_input(listener, MTASK_FOREVER);
        else if (fd >= 0)
            (void)mtask_io_close(fd);
        else
            (void)mtask_sleep(MTASK_MS(100)); /* too many descriptors */
    }
}

/* The first task of a worker's loop. */
static void *work(void *signals) {
    mtask_taskgroup connections;
    mtask_limit grace;
    MUST(mtask_limit_begin(&grace, MTASK_FOREVER));
    MUST(mtask_taskgroup_begin(&connections));
    MUST(mtask_taskgroup_go(&connections, wait_for_stop, signals, NULL));
    accept_all(&connections);
    MUST(mtask_limit_set(&grace, options.grace));
    (void)mtask_taskgroup_end(&connections, NULL);
    (void)mtask_limit_end(&grace);
    return NULL;
}

/* What a worker runs. Returns how many requests it has answered. */
static void *worker(void *arg) {
    const int stop = SIGTERM;
    mtask_signals *signals;
    (void)arg;
    signal(SIGINT, SIG_IGN); /* these a terminal sends to all; */
    signal(SIGHUP, SIG_IGN); /* they are for the parent */
    mtask_status status = mtask_signals_create(&signals, &stop, 1);
    if (status == MTASK_OK)
        status = mtask_io_pipe(self.stop);
    if (status == MTASK_OK)
        status = mtask_loop_run(work, signals, NULL);
    if (status != MTASK_OK)
        return mtask_fail(status, "its loop does not run");
    return (void *)(uintptr_t)self.requests;
}

/* ---- the parent ---- */

struct child {
    struct child *next;
    mtask_proc *process;
    unsigned generation;
    bool stopping;   /* it was told to */
    int64_t started; /* when */
    int64_t kill_at; /* when it is killed: MTASK_FOREVER, unless it is stopping */
};

static struct child *children;
static unsigned generation;
static bool stopping;
static int64_t not_before; /* when a worker may be started again */

static void say(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fputs("prefork: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
}

static unsigned count_children(bool current) {
    unsigned count = 0;
    for (const struct child *child = children; child != NULL; child = child->next)
        count += !current || child->generation == generation;
    return count;
}

static bool start_child(void) {
    mtask_proc_desc desc = {.fn = worker, .method = MTASK_PROC_FORK, .daemon = true};
    struct child *child = calloc(1, sizeof *child);
    mtask_status status = child == NULL ? MTASK_NOMEM : mtask_proc_start_ex(&child->process, &desc);
    if (status != MTASK_OK) {
        say("no worker can be started: %s", mtask_strerror(status));
        free(child);
        return false;
    }
    child->generation = generation;
    child->started = mtask_now();
    child->kill_at = MTASK_FOREVER;
    child->next = children;
    children = child;
    say("worker %d started, generation %u", (int)mtask_proc_pid(child->process), generation);
    return true;
}

static void stop_child(struct child *child) {
    if (child->stopping)
        return;
    child->stopping = true;
    child->kill_at = mtask_deadline(options.grace + seconds(1));
    (void)mtask_proc_terminate(child->process);
}

/* Starts the workers that are missing; once all are there, ends those of older generations. */
static void fill(void) {
    if (stopping || mtask_now() < not_before)
        return;
    while (count_children(true) < options.workers)
        if (!start_child()) {
            not_before = mtask_deadline(seconds(1));
            return;
        }
    for (struct child *child = children; child != NULL; child = child->next)
        if (child->generation != generation)
            stop_child(child);
}

/* Says how a worker has ended, and frees it. */
static void bury(struct child *child) {
    mtask_outcome outcome;
    mtask_status status = mtask_proc_join(child->process, &outcome, MTASK_FOREVER);
    int pid = (int)mtask_proc_pid(child->process);
    if (status == MTASK_OK)
        say("worker %d ended, after %zu requests", pid, (size_t)(uintptr_t)outcome.value);
    else
        say("worker %d failed: %s", pid, outcome.text);
    if (!child->stopping && mtask_now() - child->started < seconds(1))
        not_before = mtask_deadline(seconds(1)); /* it may not work any better at once */
    (void)mtask_proc_close(child->process);
    free(child);
}

/* Looks after those that have ended, and those that should have. */
static void reap(void) {
    for (struct child **at = &children; *at != NULL;) {
        struct child *child = *at;
        if (mtask_proc_is_alive(child->process)) {
            if (mtask_until(child->kill_at) == 0)
                (void)mtask_proc_kill(child->process);
            at = &child->next;
        } else {
            *at = child->next;
            bury(child);
        }
    }
}

/* How long there is nothing to do unless a signal comes. */
static int64_t nap(void) {
    bool missing = !stopping && count_children(true) < options.workers;
    int64_t least = missing ? mtask_until(not_before) : MTASK_FOREVER;
    for (const struct child *child = children; child != NULL; child = child->next)
        if (mtask_until(child->kill_at) < least)
            least = mtask_until(child->kill_at);
    return least < MTASK_MS(10) ? MTASK_MS(10) : least;
}

/* Reads FILE. False: it cannot be read; then the text stays as it was. */
static bool load_greeting(void) {
    char *text;
    size_t size;
    if (options.file == NULL) {
        greeting = (char *)"Hello, World!\n";
        greeting_size = strlen(greeting);
        return true;
    }
    mtask_status status = mtask_file_load(options.file, TEXT_LIMIT, &text, &size);
    if (status != MTASK_OK) {
        say("%s: %s", options.file,
            status == MTASK_SYSTEM ? strerror(errno) : mtask_strerror(status));
        return false;
    }
    mtask_file_free(greeting);
    greeting = text;
    greeting_size = size;
    return true;
}

static void on_signal(int number) {
    if (number == SIGCHLD)
        return; /* it is looked after anyway */
    if (number == SIGHUP && !stopping && load_greeting()) {
        generation++;
        say("SIGHUP: restart, generation %u", generation);
        not_before = 0;
    } else if (number != SIGHUP) {
        say("%s: stop%s", number == SIGINT ? "SIGINT" : "SIGTERM", stopping ? " at once" : "");
        for (struct child *child = children; child != NULL; child = child->next) {
            if (stopping)
                (void)mtask_proc_kill(child->process);
            stop_child(child);
        }
        stopping = true;
    }
}

static void run(mtask_signals *signals) {
    int number;
    fill();
    while (!stopping || children != NULL) {
        mtask_status status = mtask_signals_wait(signals, &number, nap());
        if (status == MTASK_OK)
            on_signal(number);
        reap();
        fill();
    }
}

/* ---- main ---- */

static _Noreturn void usage(int status) {
    fputs("usage: prefork [-p ADDRESS] [-n WORKERS] [-f FILE] [-g SECONDS]\n",
          status == 0 ? stdout : stderr);
    exit(status);
}

static double parse_option(const char *text, double least, double most) {
    char *end;
    double number = strtod(text, &end);
    if (end == text || *end != '\0' || !(number >= least && number <= most))
        usage(USAGE);
    return number;
}

static void parse_options(int argc, char **argv) {
    options.workers = mtask_cpu_count();
    for (int o; (o = getopt(argc, argv, "p:n:f:g:h")) != -1;)
        switch (o) {
        case 'p':
            options.address = optarg;
            break;
        case 'n':
            options.workers = (unsigned)parse_option(optarg, 1, MOST_WORKERS);
            break;
        case 'f':
            options.file = optarg;
            break;
        case 'g':
            options.grace = (int64_t)(parse_option(optarg, 0, 1e6) * 1e9);
            break;
        default:
            usage(o == 'h' ? EXIT_SUCCESS : USAGE);
        }
    if (optind < argc)
        usage(USAGE);
}

static void listen_there(void) {
    const char *where = options.address;
    mtask_address address;
    char port[32], text[MTASK_ADDRESS_TEXT];
    if (strspn(where, "0123456789") == strlen(where)) {
        snprintf(port, sizeof port, "127.0.0.1:%s", where);
        where = port;
    }
    mtask_status status = mtask_tcp_listen(&listener, where, NULL);
    if (status != MTASK_OK) {
        say("%s: %s", options.address,
            status == MTASK_SYSTEM ? strerror(errno) : mtask_strerror(status));
        exit(EXIT_FAILURE);
    }
    MUST(mtask_io_local(listener, &address));
    printf("prefork: http://%s/\n", mtask_address_text(&address, text, sizeof text));
    fflush(stdout);
}

int main(int argc, char **argv) {
    static const int numbers[] = {SIGHUP, SIGINT, SIGTERM, SIGCHLD};
    mtask_signals *signals;
    parse_options(argc, argv);
    if (!load_greeting())
        return EXIT_FAILURE;
    MUST(mtask_signals_create(&signals, numbers, 4));
    listen_there();
    run(signals);
    mtask_signals_destroy(signals);
    (void)mtask_io_close(listener);
    if (options.file != NULL)
        mtask_file_free(greeting);
    return EXIT_SUCCESS;
}
