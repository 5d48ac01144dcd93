/* cc -std=c11 -O2 -pthread -I. tests/bench/bench_io.c -o bench_io -lm
   (better: tests/bench/run.sh io, which builds the servers, writes the table and draws the chart)

   The servers and streams of mtask_io.h against nginx, libuv and Go's net/http, over loopback.
   Each server is a process of its own with one thread that serves (Go: as it does by itself), on a
   free port. It is started when it is first needed and killed at the end, also if this program is.

   http_*     examples/httpd.c with one loop against nginx with one worker and without a log, which
              sends the same body by `return 200`. The load is `wrk -t1 -c100`; pipelined: 16 requests
              in one piece. http_p99_ms is from the same runs as http_per_s.
              http_10k_idle_per_s: the same while 10,000 other connections are open that have made a
              request each; its peer is itself without them.
   echo       64 bytes go there and back on each of 50 connections, as often as they can.
   connect_close  50 connections at a time: each is opened, says one byte, and is closed by the
              server; then the next one is. Clients reset theirs, so that no port stays taken.
   stream     a writer and a reader on one pipe of 64 KiB, in one thread: two tasks with a stream
              each, which wait for each other, against a loop of write and read. CPU time.
              stream_alone: one task that writes and reads in turn, as the peer does.
   idle_connection_bytes  memory of the server's process (RSS) for each of 10,000 connections that
              have made one request and are silent; what the kernel keeps is not counted.

   THE LIMITS. `bare epoll`: a loop of epoll_wait, recv and send of a constant answer or of what
   came, that looks at nothing: what the kernel leaves to a server; for connect_close one of accept,
   recv and close. CPU time of the server for each request is noted below the figures: it says more
   than they do where the client needs most of the time. */

// examples: httpd
#define MTASK_IMPLEMENTATION
#include "mtask_io.h"

#include "bench.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define CONNECTIONS  "100"
#define HTTP_SECONDS "2"
#define REQUEST      "GET /plain HTTP/1.1\r\nHost: localhost\r\n\r\n"
#define IDLE         10000
#define CLIENTS      50  /* of echo and connect_close */
#define LOAD_NS      1e9 /* how long one run of echo and connect_close lasts */
#define MESSAGE      64
#define BACKLOG      4096

/* ---- what can go wrong ---- */

static void must(mtask_status status, const char *what) {
    if (status == MTASK_OK)
        return;
    fprintf(stderr, "benchmark: %s: %s\n", what, mtask_strerror(status));
    exit(1);
}

static void expect(bool holds, const char *what) {
    if (holds)
        return;
    fprintf(stderr, "benchmark: %s: %s\n", what, strerror(errno));
    exit(1);
}

/* ---- servers: processes that are started and killed ---- */

#define MOST_ARGS 12

typedef struct server {
    const char *argv[MOST_ARGS];
    pid_t pid;                       /* 0: not started */
    int port;                        /* 0: it could not be started */
    double cpu_us[BENCH_MAX_ROUNDS]; /* CPU time for each request, of the latest runs */
    int runs;
} server;

/* Becomes the program; ends with its parent, whatever happens to that. */
static void become(const char *const argv[], int output, pid_t parent) {
    char *args[MOST_ARGS];
    memcpy(args, argv, sizeof args);
    (void)prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() == parent && dup2(output, STDOUT_FILENO) >= 0)
        execvp(args[0], args);
    _exit(127);
}

/* Starts it; returns a pipe from which its output is to be read. */
static int launch(server *self) {
    pid_t parent = getpid();
    int ends[2];
    expect(pipe2(ends, O_CLOEXEC) == 0, "pipe");
    self->pid = fork();
    expect(self->pid >= 0, "fork");
    if (self->pid == 0)
        become(self->argv, ends[1], parent);
    close(ends[1]);
    return ends[0];
}

/* The number in which the first line ends, as in "listens on 127.0.0.1:4711"; 0: there is none. */
static int last_number(int output) {
    char line[256];
    FILE *file = fdopen(output, "r");
    int number = 0;
    expect(file != NULL, "fdopen");
    if (fgets(line, sizeof line, file) != NULL)
        for (const char *at = line; *at != '\0'; at += strspn(at, "0123456789")) {
            at += strcspn(at, "0123456789");
            number = *at != '\0' ? atoi(at) : number;
        }
    fclose(file);
    return number;
}

/* Its port, once it listens; 0: it is missing. */
static int port_of(server *self) {
    if (self->pid == 0)
        self->port = last_number(launch(self));
    return self->port;
}

static void end_server(server *self) {
    if (self->pid > 0) {
        kill(self->pid, SIGKILL);
        waitpid(self->pid, NULL, 0);
    }
    self->pid = 0;
    self->port = 0;
}

/* CPU time that its process has used. */
static double cpu_of(const server *self) {
    clockid_t clock;
    struct timespec used;
    if (clock_getcpuclockid(self->pid, &clock) != 0 || clock_gettime(clock, &used) != 0)
        return (double)NAN;
    return (double)used.tv_sec * 1e9 + (double)used.tv_nsec;
}

static void note_cpu_of(server *self, double before, double requests) {
    double each = (cpu_of(self) - before) / requests / 1e3;
    self->cpu_us[self->runs++ % BENCH_MAX_ROUNDS] = each;
}

static double cpu_us(const server *self) {
    int count = self->runs < BENCH_MAX_ROUNDS ? self->runs : BENCH_MAX_ROUNDS;
    return bench_summarize(self->cpu_us, count).median;
}

static void print_cpu(const char *name, const server *self) {
    if (self->runs > 0)
        printf("  %s %.2f", name, cpu_us(self));
}

/* ---- clients ---- */

static struct sockaddr_in loopback(int port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
}

/* A socket that is connected to the port; -1 if nobody listens. When it is closed a reset is sent,
   so that its port is free again at once. */
static int dial(int port) {
    const struct sockaddr_in address = loopback(port);
    const struct linger reset = {1, 0};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    expect(fd >= 0, "socket");
    (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    if (connect(fd, (const struct sockaddr *)&address, sizeof address) == 0)
        return fd;
    close(fd);
    return -1;
}

/* Makes a request and returns the body of the answer, which is in `text` then; NULL: there is
   none. */
static char *fetch(int fd, char *text, size_t size) {
    ssize_t n = send(fd, REQUEST, sizeof REQUEST - 1, MSG_NOSIGNAL);
    char *body = NULL;
    for (size_t got = 0; n > 0 && body == NULL; got += (size_t)n) {
        n = recv(fd, text + got, size - 1 - got, 0);
        if (n <= 0)
            return NULL;
        text[got + (size_t)n] = '\0';
        body = strstr(text, "\r\n\r\n");
    }
    return body != NULL && strncmp(text, "HTTP/1.1 200", 12) == 0 ? body + 4 : NULL;
}

static void close_all(const int *fds, int count) {
    for (int i = 0; i < count; i++)
        close(fds[i]);
}

/* Opens so many connections and makes a request on each; else none is open then. */
static bool dial_all(int port, int *fds, int count) {
    char text[4096];
    for (int i = 0; i < count; i++) {
        fds[i] = dial(port);
        if (fds[i] >= 0 && fetch(fds[i], text, sizeof text) != NULL)
            continue;
        close_all(fds, fds[i] < 0 ? i : i + 1);
        return false;
    }
    return true;
}

/* ---- the servers there are ---- */

#define PEER(name) "build/bench/peer_io_" name
#define RUN(...)                                                                                   \
 {                                                                                                 \
  .argv = { __VA_ARGS__ }                                                                          \
 }
#define OWN(name) RUN(self_path, "serve", name)
#define HTTPD     RUN("build/bench/httpd", "-p", "0")
#define UV(name)  RUN(PEER("uv"), name)

static char self_path[512];
static char scratch[64]; /* a directory */
static char nginx_config[128], pipeline_script[128];
static char plain[256] = "hello"; /* what httpd answers to REQUEST, and so do its peers */

static server httpd = HTTPD;
static server nginx = RUN("nginx", "-e", "/dev/null", "-c", nginx_config);
static server http_bare = OWN("http_bare");
static server idle_mtask = HTTPD;
static server idle_go = RUN(PEER("go"), plain);
static server echo_mtask = OWN("echo"), echo_bare = OWN("echo_bare"), echo_uv = UV("echo");
static server close_mtask = OWN("close"), close_bare = OWN("close_bare"), close_uv = UV("close");

static server *const all[] = {&httpd,       &nginx,      &http_bare, &idle_mtask,
                              &idle_go,     &echo_mtask, &echo_bare, &echo_uv,
                              &close_mtask, &close_bare, &close_uv};

static void write_file(const char *path, const char *text) {
    FILE *file = fopen(path, "w");
    expect(file != NULL && fputs(text, file) >= 0 && fclose(file) == 0, path);
}

/* Gets to know what httpd answers: so many bytes are to be its peers' answers as well. */
static void learn_plain(void) {
    static bool done;
    char text[4096];
    int fd = done || port_of(&httpd) == 0 ? -1 : dial(httpd.port);
    const char *body = fd >= 0 ? fetch(fd, text, sizeof text) : NULL;
    if (body != NULL)
        snprintf(plain, sizeof plain, "%s", body);
    if (fd >= 0)
        close(fd);
    for (char *at = plain; *at != '\0'; at++) /* to stand in quotes */
        *at = *at >= ' ' && strchr("'\"\\$", *at) == NULL ? *at : '_';
    done = true;
}

/* A port that is free now: nginx cannot choose one. */
static int free_port(void) {
    struct sockaddr_in address = loopback(0);
    socklen_t size = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    expect(fd >= 0 && bind(fd, (struct sockaddr *)&address, size) == 0 &&
               getsockname(fd, (struct sockaddr *)&address, &size) == 0,
           "bind");
    close(fd);
    return ntohs(address.sin_port);
}

static void configure_nginx(int port) {
    char text[2048];
    snprintf(text, sizeof text,
             "daemon off; master_process off; pid %s/pid; error_log /dev/null crit;\n"
             "events { worker_connections 4096; }\n"
             "http { access_log off; keepalive_requests 1000000000; default_type text/plain;\n"
             "client_body_temp_path %s/1; proxy_temp_path %s/2; fastcgi_temp_path %s/3;\n"
             "uwsgi_temp_path %s/4; scgi_temp_path %s/5;\n"
             "server { listen 127.0.0.1:%d; location / { return 200 '%s'; } } }\n",
             scratch, scratch, scratch, scratch, scratch, scratch, port, plain);
    write_file(nginx_config, text);
}

/* nginx as one process, which is the worker. It says nothing: it is there when it answers. */
static int port_of_nginx(void) {
    int fd = -1, port = free_port();
    if (nginx.pid != 0)
        return nginx.port;
    learn_plain();
    configure_nginx(port);
    close(launch(&nginx));
    for (int tries = 0; tries < 500 && fd < 0 && waitpid(nginx.pid, NULL, WNOHANG) == 0; tries++) {
        usleep(10000);
        fd = dial(port);
    }
    nginx.port = fd >= 0 ? port : 0;
    if (fd >= 0)
        close(fd);
    return nginx.port;
}

static void end_all(void) {
    static const char *const names[] = {"pid", "1",          "2",      "3", "4",
                                        "5",   "nginx.conf", "16.lua", "."};
    char path[128];
    for (size_t i = 0; i < BENCH_LENGTH(all); i++)
        end_server(all[i]);
    for (size_t i = 0; i < BENCH_LENGTH(names); i++) {
        snprintf(path, sizeof path, "%s/%s", scratch, i + 1 < BENCH_LENGTH(names) ? names[i] : "");
        (void)remove(path);
    }
}

/* ---- what ours and the bare ones do: PROGRAM serve WHAT ---- */

static void echo(mtask_stream *stream, void *ctx) {
    const char *data;
    size_t size;
    (void)ctx;
    while (mtask_stream_fill(stream, 1, &data, &size, MTASK_FOREVER) == MTASK_OK)
        if (mtask_stream_write(stream, data, size, MTASK_FOREVER) != MTASK_OK ||
            mtask_stream_skip(stream, size) != MTASK_OK)
            break;
}

static void end_at_first(mtask_stream *stream, void *ctx) {
    const char *data;
    size_t size;
    (void)ctx;
    (void)mtask_stream_fill(stream, 1, &data, &size, MTASK_FOREVER);
}

static void tell_port(mtask_server *started, void *ctx) {
    mtask_address address;
    (void)ctx;
    must(mtask_server_address(started, &address), "address");
    printf("%u\n", mtask_address_port(&address));
    fflush(stdout);
}

static int serve(mtask_handler *handler) {
    mtask_serve_desc desc = {.on_ready = tell_port};
    must(mtask_serve("127.0.0.1:0", handler, &desc), "serve");
    return 0;
}

static const char bare_answer[] = "HTTP/1.1 200 OK\r\nServer: mtask\r\n"
                                  "Date: Thu, 01 Jan 1970 00:00:00 GMT\r\n"
                                  "Content-Type: text/plain\r\nContent-Length: 13\r\n\r\n"
                                  "hello, world\n";

typedef enum bare_kind { BARE_HTTP, BARE_ECHO, BARE_CLOSE } bare_kind;

/* What has come on a connection; false: it is to be closed. */
static bool bare_input(bare_kind kind, int fd) {
    static char buffer[16384];
    ssize_t n = recv(fd, buffer, sizeof buffer, 0);
    if (n < 0 && errno == EAGAIN)
        return true;
    if (n <= 0 || kind == BARE_CLOSE)
        return false;
    if (kind == BARE_HTTP)
        return send(fd, bare_answer, sizeof bare_answer - 1, MSG_NOSIGNAL) > 0;
    return send(fd, buffer, (size_t)n, MSG_NOSIGNAL) == n;
}

static void bare_accept(bare_kind kind, int poller, int listener) {
    struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP | EPOLLET};
    int fd;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        event.data.fd = fd;
        if (!bare_input(kind, fd) || epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event) != 0)
            close(fd);
    }
}

static void serve_bare(bare_kind kind) {
    struct sockaddr_in address = loopback(0);
    socklen_t size = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), poller = epoll_create1(0);
    struct epoll_event events[512], event = {.events = EPOLLIN};
    const int on = 1;
    event.data.fd = listener;
    expect(listener >= 0 && bind(listener, (struct sockaddr *)&address, size) == 0 &&
               listen(listener, BACKLOG) == 0 &&
               setsockopt(listener, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) == 0 &&
               getsockname(listener, (struct sockaddr *)&address, &size) == 0 &&
               epoll_ctl(poller, EPOLL_CTL_ADD, listener, &event) == 0,
           "listen");
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    for (;;) {
        int count = epoll_wait(poller, events, BENCH_LENGTH(events), -1);
        for (int i = 0; i < count; i++)
            if (events[i].data.fd == listener)
                bare_accept(kind, poller, listener);
            else if (!bare_input(kind, events[i].data.fd))
                close(events[i].data.fd);
    }
}

static int serve_what(const char *what) {
    if (strcmp(what, "echo") == 0)
        return serve(echo);
    if (strcmp(what, "close") == 0)
        return serve(end_at_first);
    if (strcmp(what, "http_bare") == 0)
        serve_bare(BARE_HTTP);
    if (strcmp(what, "echo_bare") == 0)
        serve_bare(BARE_ECHO);
    if (strcmp(what, "close_bare") == 0)
        serve_bare(BARE_CLOSE);
    fprintf(stderr, "bench_io: no server '%s'\n", what);
    return 2;
}

/* ---- http: the load is wrk ---- */

typedef struct wrk_result {
    double rate;   /* requests a second */
    double p99_ms; /* 99 of 100 were answered within so many milliseconds */
    double errors;
} wrk_result;

static double milliseconds(double number, const char *unit) {
    return strcmp(unit, "us") == 0 ? number / 1e3 : strcmp(unit, "s") == 0 ? number * 1e3 : number;
}

static wrk_result read_wrk(FILE *output) {
    wrk_result result = {(double)NAN, (double)NAN, 0};
    char line[256], unit[8];
    double number;
    while (fgets(line, sizeof line, output) != NULL) {
        if (sscanf(line, " 99%%%lf%7s", &number, unit) == 2)
            result.p99_ms = milliseconds(number, unit);
        else if (sscanf(line, " Requests/sec: %lf", &number) == 1)
            result.rate = number;
        else if (strstr(line, "Non-2xx") != NULL || strstr(line, "Socket errors") != NULL)
            result.errors++;
    }
    return result;
}

/* A run of wrk; of one with errors nothing counts. */
static wrk_result wrk(server *self, const char *options) {
    char command[512];
    wrk_result result = {(double)NAN, (double)NAN, 0};
    double before = cpu_of(self);
    FILE *output;
    snprintf(command, sizeof command,
             "wrk -t1 -c" CONNECTIONS " -d" HTTP_SECONDS "s %s http://127.0.0.1:%d/plain", options,
             self->port);
    output = popen(command, "r");
    if (output == NULL)
        return result;
    result = read_wrk(output);
    if (pclose(output) != 0 || result.errors > 0)
        return (wrk_result){(double)NAN, (double)NAN, 1};
    note_cpu_of(self, before, result.rate * atof(HTTP_SECONDS));
    return result;
}

/* Runs of which two figures are reported: the second is told when its turn comes. */
typedef struct series {
    server *from;
    double p99[BENCH_MAX_ROUNDS + 1];
    int recorded;
    int told;
} series;

static series of_httpd = {.from = &httpd}, of_nginx = {.from = &nginx},
              of_bare = {.from = &http_bare};

static double rate_in(series *self) {
    wrk_result result = wrk(self->from, "--latency");
    if (self->recorded <= BENCH_MAX_ROUNDS)
        self->p99[self->recorded++] = result.p99_ms;
    return result.rate;
}

static double p99_in(series *self) {
    if (self->told == self->recorded)
        (void)rate_in(self);
    return self->p99[self->told++];
}

static double http(void) {
    return port_of(&httpd) > 0 ? rate_in(&of_httpd) : (double)NAN;
}
static double http_nginx(void) {
    return port_of_nginx() > 0 ? rate_in(&of_nginx) : (double)NAN;
}
static double http_limit(void) {
    return port_of(&http_bare) > 0 ? rate_in(&of_bare) : (double)NAN;
}

static double p99(void) {
    return port_of(&httpd) > 0 ? p99_in(&of_httpd) : (double)NAN;
}
static double p99_nginx(void) {
    return port_of_nginx() > 0 ? p99_in(&of_nginx) : (double)NAN;
}
static double p99_limit(void) {
    return port_of(&http_bare) > 0 ? p99_in(&of_bare) : (double)NAN;
}

/* So many requests are one piece; wrk counts them. */
static const char *pipelined_options(void) {
    static char options[160];
    if (options[0] == '\0') {
        write_file(pipeline_script, "local pieces\n"
                                    "init = function(args)\n"
                                    "    local each = {}\n"
                                    "    for i = 1, 16 do each[i] = wrk.format(nil, wrk.path) end\n"
                                    "    pieces = table.concat(each)\n"
                                    "end\n"
                                    "request = function() return pieces end\n");
        snprintf(options, sizeof options, "-s %s", pipeline_script);
    }
    return options;
}

static double pipelined(void) {
    return port_of(&httpd) > 0 ? wrk(&httpd, pipelined_options()).rate : (double)NAN;
}
static double pipelined_nginx(void) {
    return port_of_nginx() > 0 ? wrk(&nginx, pipelined_options()).rate : (double)NAN;
}

static int idle_fds[IDLE];

/* The same as http, with and without others that are connected to the same process. */
static double http_among_idle(void) {
    double rate;
    if (port_of(&httpd) == 0 || !dial_all(httpd.port, idle_fds, IDLE))
        return (double)NAN;
    rate = wrk(&httpd, "").rate;
    close_all(idle_fds, IDLE);
    usleep(500000); /* so that the next run meets a server that has closed them, too */
    return rate;
}

static double http_alone(void) {
    return port_of(&httpd) > 0 ? wrk(&httpd, "").rate : (double)NAN;
}

/* ---- memory ---- */

/* Bytes of memory that its process has now. */
static double resident(const server *self) {
    char path[64];
    long pages = 0;
    FILE *file;
    snprintf(path, sizeof path, "/proc/%ld/statm", (long)self->pid);
    file = fopen(path, "r");
    if (file == NULL || fscanf(file, "%*s %ld", &pages) != 1)
        pages = 0;
    if (file != NULL)
        fclose(file);
    return pages > 0 ? (double)pages * (double)sysconf(_SC_PAGESIZE) : (double)NAN;
}

/* In a new process, which has answered before. */
static double idle_bytes(server *self) {
    double before, after;
    int first;
    end_server(self);
    if (port_of(self) == 0 || !dial_all(self->port, &first, 1))
        return (double)NAN;
    before = resident(self);
    if (!dial_all(self->port, idle_fds, IDLE)) {
        close(first);
        return (double)NAN;
    }
    usleep(200000);
    after = resident(self);
    close_all(idle_fds, IDLE);
    close(first);
    end_server(self);
    return (after - before) / IDLE;
}

static double idle_bytes_mtask(void) {
    return idle_bytes(&idle_mtask);
}
static double idle_bytes_go(void) {
    learn_plain();
    return idle_bytes(&idle_go);
}

/* ---- echo, connect and close: the load is here ---- */

typedef struct load {
    int port;
    int poller;
    int fds[CLIENTS];
    double done;
} load;

static const char message[MESSAGE] =
    "so many bytes go there and back again, as they were sent: 64...";

static void begin(load *self, uint32_t client, size_t size) {
    struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP};
    int fd = self->fds[client] = dial(self->port);
    event.data.u32 = client;
    expect(fd >= 0 && send(fd, message, size, MSG_NOSIGNAL) == (ssize_t)size &&
               epoll_ctl(self->poller, EPOLL_CTL_ADD, fd, &event) == 0,
           "connect");
}

static void begin_echo(load *self, uint32_t client) {
    const int on = 1;
    begin(self, client, MESSAGE);
    (void)setsockopt(self->fds[client], IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

static void step_echo(load *self, uint32_t client) {
    int fd = self->fds[client];
    char back[MESSAGE];
    expect(recv(fd, back, MESSAGE, MSG_WAITALL) == MESSAGE && memcmp(back, message, MESSAGE) == 0 &&
               send(fd, message, MESSAGE, MSG_NOSIGNAL) == MESSAGE,
           "echo");
    self->done++;
}

static void begin_close(load *self, uint32_t client) {
    begin(self, client, 1);
}

static void step_close(load *self, uint32_t client) {
    close(self->fds[client]);
    self->done++;
    begin_close(self, client);
}

typedef void step(load *self, uint32_t client);

/* Steps a second. */
static double drive(server *to, step *first, step *next) {
    struct epoll_event events[CLIENTS];
    load self = {.port = port_of(to)};
    double start = bench_now_ns(), lasted = 0, before = cpu_of(to);
    if (self.port == 0)
        return (double)NAN;
    self.poller = epoll_create1(EPOLL_CLOEXEC);
    expect(self.poller >= 0, "epoll_create1");
    for (uint32_t i = 0; i < CLIENTS; i++)
        first(&self, i);
    while (lasted < LOAD_NS) {
        int ready = epoll_wait(self.poller, events, CLIENTS, 5000);
        expect(ready > 0, "no answer");
        for (int i = 0; i < ready; i++)
            next(&self, events[i].data.u32);
        lasted = bench_now_ns() - start;
    }
    note_cpu_of(to, before, self.done);
    close(self.poller);
    close_all(self.fds, CLIENTS);
    return self.done / (lasted / 1e9);
}

static double echo_of(server *to) {
    return drive(to, begin_echo, step_echo);
}

static double echo_by_mtask(void) {
    return echo_of(&echo_mtask);
}
static double echo_by_uv(void) {
    return echo_of(&echo_uv);
}
static double echo_limit(void) {
    return echo_of(&echo_bare);
}

static double close_of(server *to) {
    return drive(to, begin_close, step_close);
}

static double close_by_mtask(void) {
    return close_of(&close_mtask);
}
static double close_by_uv(void) {
    return close_of(&close_uv);
}
static double close_limit(void) {
    return close_of(&close_bare);
}

/* ---- a stream through a pipe ---- */

#define STREAM_BYTES ((size_t)2 << 30)
#define PIPE_SIZE    65536
#define BLOCK        ((size_t)128 * 1024) /* more than the pipe holds: a call takes all there is */

static char block_out[BLOCK], block_in[BLOCK];

/* GB per second of CPU time. */
static double gb_per_s(double start) {
    return (double)STREAM_BYTES / (bench_cpu_ns() - start);
}

static void *write_all(void *arg) {
    mtask_stream *stream = arg;
    for (size_t left = STREAM_BYTES; left > 0; left -= BLOCK)
        must(mtask_stream_write(stream, block_out, BLOCK, MTASK_FOREVER), "write");
    must(mtask_stream_close(stream, MTASK_FOREVER), "close");
    return NULL;
}

static void *stream_program(void *arg) {
    double *figure = arg, start;
    size_t got = 0, n;
    mtask_stream *in, *out;
    int ends[2];
    must(mtask_io_pipe(ends), "pipe");
    must(mtask_stream_open(&in, ends[0], NULL), "open");
    must(mtask_stream_open(&out, ends[1], NULL), "open");
    start = bench_cpu_ns();
    must(mtask_go(write_all, out, NULL), "go");
    while (mtask_stream_read(in, block_in, BLOCK, &n, MTASK_FOREVER) == MTASK_OK)
        got += n;
    *figure = gb_per_s(start);
    expect(got == STREAM_BYTES, "not all bytes came");
    mtask_stream_destroy(in);
    mtask_stream_destroy(out);
    return NULL;
}

static double stream_by_mtask(void) {
    double figure = 0;
    must(mtask_loop_run(stream_program, &figure, NULL), "loop");
    return figure;
}

/* What stream_by_loop does, by streams: nobody waits. */
static void *stream_alone_program(void *arg) {
    double *figure = arg, start;
    mtask_stream *in, *out;
    int ends[2];
    must(mtask_io_pipe(ends), "pipe");
    must(mtask_stream_open(&in, ends[0], NULL), "open");
    must(mtask_stream_open(&out, ends[1], NULL), "open");
    start = bench_cpu_ns();
    for (size_t left = STREAM_BYTES; left > 0; left -= PIPE_SIZE) {
        must(mtask_stream_write(out, block_out, PIPE_SIZE, MTASK_FOREVER), "write");
        must(mtask_stream_read_exactly(in, block_in, PIPE_SIZE, NULL, MTASK_FOREVER), "read");
    }
    *figure = gb_per_s(start);
    mtask_stream_destroy(in);
    mtask_stream_destroy(out);
    return NULL;
}

static double stream_alone(void) {
    double figure = 0;
    must(mtask_loop_run(stream_alone_program, &figure, NULL), "loop");
    return figure;
}

static double stream_by_loop(void) {
    int ends[2];
    double start = bench_cpu_ns(), figure;
    expect(pipe2(ends, O_CLOEXEC) == 0, "pipe");
    for (size_t left = STREAM_BYTES; left > 0; left -= PIPE_SIZE)
        expect(write(ends[1], block_out, PIPE_SIZE) == PIPE_SIZE &&
                   read(ends[0], block_in, PIPE_SIZE) == PIPE_SIZE,
               "pipe");
    figure = gb_per_s(start);
    close(ends[0]);
    close(ends[1]);
    return figure;
}

/* ---- what else is worth knowing ---- */

static void note_http(void) {
    printf("    us of CPU time of the server for each request:");
    print_cpu("mtask", &httpd);
    print_cpu("nginx", &nginx);
    print_cpu("bare epoll", &http_bare);
    printf("\n");
    httpd.runs = nginx.runs = http_bare.runs = 0;
}

static void note_echo(void) {
    printf("    us of CPU time of the server for each message:");
    print_cpu("mtask", &echo_mtask);
    print_cpu("libuv", &echo_uv);
    print_cpu("bare epoll", &echo_bare);
    printf("\n");
}

static void note_close(void) {
    printf("    us of CPU time of the server for each connection:");
    print_cpu("mtask", &close_mtask);
    print_cpu("libuv", &close_uv);
    print_cpu("bare epoll", &close_bare);
    printf("\n");
}

/* ---- the table ---- */

/* Their names, with their versions if they are there. */
static char nginx_name[48] = "nginx", go_name[48] = "Go net/http", uv_name[48] = "libuv";

/* Appends the version that the command prints. */
static void name_peer(char name[48], const char *command) {
    char text[128] = "", version[12] = "";
    FILE *output = popen(command, "r");
    if (output == NULL)
        return;
    if (fgets(text, sizeof text, output) != NULL)
        sscanf(text + strcspn(text, "0123456789"), "%11[0-9.]", version);
    pclose(output);
    if (version[0] != '\0')
        strcat(strcat(name, " "), version);
}

/* Each connection takes a descriptor here, and one of the server's, which inherits the limit. */
static void raise_limit(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return;
    limit.rlim_cur = limit.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &limit);
    if (limit.rlim_max < IDLE + 1000)
        fprintf(stderr,
                "bench_io: ulimit -Hn is %ld: figures with %d idle connections are missing\n",
                (long)limit.rlim_max, IDLE);
}

static void prepare(void) {
    signal(SIGPIPE, SIG_IGN);
    raise_limit();
    name_peer(nginx_name, "nginx -v 2>&1");
    name_peer(go_name, PEER("go") " version 2>/dev/null");
    name_peer(uv_name, PEER("uv") " version 2>/dev/null");
    snprintf(scratch, sizeof scratch, "/tmp/bench_io.XXXXXX");
    expect(mkdtemp(scratch) != NULL, "mkdtemp");
    snprintf(nginx_config, sizeof nginx_config, "%s/nginx.conf", scratch);
    snprintf(pipeline_script, sizeof pipeline_script, "%s/16.lua", scratch);
    expect(atexit(end_all) == 0, "atexit");
}

#define FROM(name_, run_)                                                                          \
 { .name = (name_), .run = (run_) }
#define OURS(run_)  FROM("mtask", run_)
#define BARE(run_)  FROM("bare epoll", run_)
#define NGINX(run_) FROM(nginx_name, run_)
#define LIBUV(run_) FROM(uv_name, run_)
#define NO_LIMIT    FROM(NULL, NULL)

static const bench_case cases[] = {
    {"http_per_s", "1/s", OURS(http), NGINX(http_nginx), BARE(http_limit), 1, 0, NULL},
    {"http_p99_ms", "ms", OURS(p99), NGINX(p99_nginx), BARE(p99_limit), 1.05, 0, note_http},
    {"http_pipelined_per_s", "1/s", OURS(pipelined), NGINX(pipelined_nginx), NO_LIMIT, 1, 0,
     note_http},
    {"http_10k_idle_per_s", "1/s", OURS(http_among_idle), FROM("mtask, none idle", http_alone),
     NO_LIMIT, 0.9, 0, NULL},
    {"echo_per_s", "1/s", OURS(echo_by_mtask), LIBUV(echo_by_uv), BARE(echo_limit), 1, 0,
     note_echo},
    {"connect_close_per_s", "1/s", OURS(close_by_mtask), LIBUV(close_by_uv), BARE(close_limit), 1,
     0, note_close},
    {"stream_GB_per_s", "GB/s", OURS(stream_by_mtask), FROM("write, read", stream_by_loop),
     NO_LIMIT, 0.9, 0, NULL},
    {"stream_alone_GB_per_s", "GB/s", OURS(stream_alone), FROM("write, read", stream_by_loop),
     NO_LIMIT, 0, 0, NULL},
    {"idle_connection_bytes", "bytes", OURS(idle_bytes_mtask), FROM(go_name, idle_bytes_go),
     NO_LIMIT, 1, 5, NULL},
};

int main(int argc, char **argv) {
    ssize_t length = readlink("/proc/self/exe", self_path, sizeof self_path - 1);
    expect(length > 0, "/proc/self/exe");
    if (argc == 3 && strcmp(argv[1], "serve") == 0)
        return serve_what(argv[2]);
    prepare();
    return bench_main("io", cases, BENCH_LENGTH(cases), argc, argv);
}
