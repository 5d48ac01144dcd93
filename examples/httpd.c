// mkdir -p build && cc -O2 -pthread -I. -o build/httpd examples/httpd.c -lhttp_parser
/* httpd: a web server.

       httpd [-p ADDRESS] [-d DIRECTORY] [-l LOOPS] [-c CONNECTIONS] [-b BYTES] [-t SECONDS]
             [-k SECONDS]

   Listens on ADDRESS: a port, or what mtask_tcp_listen knows (default: 127.0.0.1:8080; port 0: a
   free one), and prints it. Answers / and /plain with a text, /hello/{name} after half a second,
   POST /echo with what it was sent, and with -d all other paths, and those below /static/, with the
   files in DIRECTORY. -l serves by so many threads with a loop each (default: 1); -c limits the
   connections at once; -b the bytes of a request's body (default: 1048576). A client has -t seconds
   to send a request, and to take some of the answer (default: 30), and -k seconds between two
   requests (default: 75). SIGINT and SIGTERM end it: requests that run are answered first.

   How: each connection has a task of its own, which runs serve(), straight on, as if there were no
   others: read a request, call app, read the next one. What would block parks the task. http_parser
   parses a request where it lies in the stream's buffer; what the application sees of it points in
   there. The answer goes into the stream's other buffer, which is sent when the next request is not
   there yet: so requests that come together are answered together. The application is a function of
   a request and a response: app(). */

#define MTASK_IMPLEMENTATION
#include "mtask_io.h"
#include "common.h"
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <http_parser.h>
#include <string.h>
#include <strings.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#ifdef SYS_openat2
# include <linux/openat2.h>
#endif

enum {
    HEAD_LIMIT = 16 << 10,  /* bytes of a request's head: its line and fields */
    FIELD_LIMIT = 64,       /* fields of a request */
    ANSWER_ROOM = 512,      /* bytes of a response's head */
    NAME_ROOM = 256,        /* bytes of a name that is said hello to */
    PATH_ROOM = 1024,       /* bytes of a file's path */
    FILE_PIECE = 256 << 10, /* bytes of a file for which a client has the time of -t */
    LINGER = 2              /* seconds until a client that was refused is cut off */
};

static struct {
    const char *address;
    int root; /* where the files are; -1: there are none */
    unsigned loops;
    size_t connections, body;
    int64_t patience, idle, delay;
} options = {
    .address = "127.0.0.1:8080",
    .root = -1,
    .body = 1 << 20,
    .patience = MTASK_SEC(30),
    .idle = MTASK_SEC(75),
};

static _Atomic(mtask_server *) server; /* set once it listens */

/* ---- text ---- */

struct text {
    const char *at;
    size_t size;
};

/* Whether that is the text, upper or lower case. */
static bool text_is(struct text text, const char *word) {
    return text.size == strlen(word) && strncasecmp(text.at, word, text.size) == 0;
}

/* Decodes a part of a path to a string. False: it does not fit, or is none: %00, %2F, no number. */
static bool text_decode(struct text text, char *to, size_t room) {
    for (const char *end = text.at + text.size; text.at < end; text.at++) {
        char c = *text.at;
        if (c == '%') {
            char digits[3] = "";
            memcpy(digits, text.at + 1, end - text.at > 2 ? 2 : 0);
            c = (char)strtoul(digits, NULL, 16);
            if (strspn(digits, "0123456789abcdefABCDEF") != 2 || c == '\0' || c == '/')
                return false;
            text.at += 2;
        }
        if (--room == 0)
            return false;
        *to++ = c;
    }
    *to = '\0';
    return true;
}

/* ---- requests ---- */

/* Bytes of a head, which moves when more of it comes in. */
struct span {
    uint16_t at, size;
};
_Static_assert(HEAD_LIMIT <= UINT16_MAX, "a span reaches everywhere");

struct request {
    http_parser parser;      /* knows method, version, length, and whether the connection goes on */
    const char *head;        /* in the stream's buffer; if there is a body, in `memory` */
    size_t head_size;        /* bytes, once it is whole */
    char *memory;            /* head and body; NULL: there is no body */
    size_t size, room;       /* bytes in it, and in all */
    int64_t deadline;        /* when all of it must be here; 0: it had not to be waited for yet */
    enum http_status wrong;  /* what to refuse it with; 0: it is right */
    bool begun, read, ended; /* its first byte, its head, all of it is here */
    bool in_value;           /* of the last field */
    char last;               /* byte of the body that was looked at */
    const char *pattern;     /* of its route */
    struct span url, path;
    unsigned count; /* of fields */
    struct field {
        struct span name, value;
    } fields[FIELD_LIMIT];
};

static struct text request_text(const struct request *request, struct span span) {
    return (struct text){request->head + span.at, span.size};
}

/* What stands in a field, without blanks around it. */
static struct text field_value(const struct request *request, const struct field *field) {
    struct text value = request_text(request, field->value);
    while (value.size > 0 && (value.at[value.size - 1] == ' ' || value.at[value.size - 1] == '\t'))
        value.size--;
    return value;
}

/* The value of the first field of that name; empty if there is none. */
static struct text request_field(const struct request *request, const char *name) {
    for (unsigned i = 0; i < request->count; i++)
        if (text_is(request_text(request, request->fields[i].name), name))
            return field_value(request, &request->fields[i]);
    return (struct text){"", 0};
}

static struct text request_body(const struct request *request) {
    return request->memory == NULL ? (struct text){"", 0}
                                   : (struct text){request->memory + request->head_size,
                                                   request->size - request->head_size};
}

static struct text request_path(const struct request *request) {
    bool root = request->path.size == 0 && request->parser.method != HTTP_CONNECT;
    return root ? (struct text){"/", 1} : request_text(request, request->path);
}

static int refuse(struct request *request, enum http_status status) {
    request->wrong = status;
    return -1; /* from a callback: the parser stops */
}

/* ---- what the parser tells: a piece at a time, as it comes in ---- */

/* False: the piece does not follow what is there: a field goes on in the next line. */
static bool span_add(struct request *request, struct span *span, const char *at, size_t size) {
    size_t offset = (size_t)(at - request->head);
    if (span->size == 0)
        span->at = (uint16_t)offset;
    else if (offset != (size_t)span->at + span->size)
        return false;
    span->size = (uint16_t)(span->size + size);
    return true;
}

static int on_begin(http_parser *parser) {
    struct request *request = parser->data;
    request->begun = true;
    return 0;
}

static int on_url(http_parser *parser, const char *at, size_t size) {
    struct request *request = parser->data;
    bool old = parser->http_minor == 9; /* HTTP/0.9: the line ends without a version */
    span_add(request, &request->url, at, size);
    return old ? refuse(request, HTTP_STATUS_HTTP_VERSION_NOT_SUPPORTED) : 0;
}

static int on_name(http_parser *parser, const char *at, size_t size) {
    struct request *request = parser->data;
    if (request->read)
        return 0;                      /* of a trailer, which nobody asks for */
    if (memchr(at, ' ', size) != NULL) /* the parser takes blanks */
        return refuse(request, HTTP_STATUS_BAD_REQUEST);
    if (request->in_value || request->count == 0) {
        if (request->count == FIELD_LIMIT)
            return refuse(request, HTTP_STATUS_REQUEST_HEADER_FIELDS_TOO_LARGE);
        request->fields[request->count++] = (struct field){{0, 0}, {0, 0}};
        request->in_value = false;
    }
    span_add(request, &request->fields[request->count - 1].name, at, size);
    return 0;
}

static int on_value(http_parser *parser, const char *at, size_t size) {
    struct request *request = parser->data;
    if (request->read)
        return 0;
    struct span *value = &request->fields[request->count - 1].value;
    bool ended = value->size + size > 0 || at[-1] == '\n'; /* the parser takes anything behind \r */
    request->in_value = true;
    if (ended && span_add(request, value, at, size))
        return 0;
    return refuse(request, HTTP_STATUS_BAD_REQUEST);
}

static int pause_parser(http_parser *parser) {
    http_parser_pause(parser, 1);
    return 0;
}

static int on_head(http_parser *parser) {
    struct request *request = parser->data;
    request->read = true;
    return pause_parser(parser);
}

static int on_body(http_parser *parser, const char *at, size_t size) {
    struct request *request = parser->data;
    size_t room = request->room;
    if (size > options.body - (request->size - request->head_size))
        return refuse(request, HTTP_STATUS_PAYLOAD_TOO_LARGE);
    while (room < request->size + size)
        room *= 2;
    char *memory = room > request->room ? realloc(request->memory, room) : request->memory;
    if (memory == NULL)
        return refuse(request, HTTP_STATUS_SERVICE_UNAVAILABLE);
    request->head = request->memory = memory;
    request->room = room;
    memcpy(memory + request->size, at, size);
    request->size += size;
    return 0;
}

/* Behind a chunk. The last one, of no bytes, is followed by trailers, and told of by on_end. */
static int on_chunk(http_parser *parser) {
    return (parser->flags & F_TRAILING) != 0 ? 0 : pause_parser(parser);
}

static int on_end(http_parser *parser) {
    struct request *request = parser->data;
    request->ended = true;
    return pause_parser(parser);
}

static const http_parser_settings callbacks = {.on_message_begin = on_begin,
                                               .on_url = on_url,
                                               .on_header_field = on_name,
                                               .on_header_value = on_value,
                                               .on_headers_complete = on_head,
                                               .on_body = on_body,
                                               .on_chunk_header = pause_parser,
                                               .on_chunk_complete = on_chunk,
                                               .on_message_complete = on_end};

/* ---- reading a request ---- */

static int64_t patience(struct request *request) {
    if (request->deadline == 0)
        request->deadline = mtask_deadline(options.patience);
    return mtask_until(request->deadline);
}

/* Why the parser has stopped, at that byte. */
static enum http_status parse_error(const struct request *request, const char *stop) {
    enum http_errno error = HTTP_PARSER_ERRNO(&request->parser);
    bool word = error == HPE_INVALID_METHOD &&
                ((*stop >= 'A' && *stop <= 'Z') || (*stop == ' ' && stop > request->head));
    return error == HPE_HEADER_OVERFLOW ? HTTP_STATUS_REQUEST_HEADER_FIELDS_TOO_LARGE
           : word                       ? HTTP_STATUS_NOT_IMPLEMENTED
                                        : HTTP_STATUS_BAD_REQUEST;
}

/* Reads up to the empty line, without taking it out of the stream. */
static mtask_status read_head(struct request *request, mtask_stream *stream) {
    size_t parsed = 0, size = 0;
    mtask_status status;
    while ((status = mtask_stream_fill(stream, size + 1, &request->head, &size,
                                       size == 0 ? MTASK_NOWAIT : patience(request))) == MTASK_OK) {
        size = size < HEAD_LIMIT ? size : HEAD_LIMIT;
        parsed += http_parser_execute(&request->parser, &callbacks, request->head + parsed,
                                      size - parsed);
        if (request->read || HTTP_PARSER_ERRNO(&request->parser) != HPE_OK)
            break;
        if (size == HEAD_LIMIT) {
            refuse(request, !request->begun ? HTTP_STATUS_BAD_REQUEST
                            : request->parser.http_major == 0
                                ? HTTP_STATUS_URI_TOO_LONG
                                : HTTP_STATUS_REQUEST_HEADER_FIELDS_TOO_LARGE);
            break;
        }
    }
    request->head_size = parsed + 1; /* the parser stands at the last byte */
    if (status != MTASK_OK || request->wrong != 0)
        return status;
    if (!request->read)
        request->wrong = parse_error(request, request->head + parsed);
    else if (request->head[parsed] != '\n') /* the parser takes anything */
        request->wrong = HTTP_STATUS_BAD_REQUEST;
    return status;
}

/* The fields by which a request is cut out of the stream must leave no doubt. */
static enum http_status check_fields(const struct request *request) {
    const http_parser *parser = &request->parser;
    unsigned hosts = 0, codings = 0;
    for (unsigned i = 0; i < request->count; i++) {
        struct text name = request_text(request, request->fields[i].name);
        hosts += text_is(name, "host");
        if (!text_is(name, "transfer-encoding"))
            continue;
        if (!text_is(field_value(request, &request->fields[i]), "chunked"))
            return HTTP_STATUS_NOT_IMPLEMENTED;
        codings++;
    }
    bool old = parser->http_minor == 0, chunked = (parser->flags & F_CHUNKED) != 0;
    if (hosts > 1 || (hosts == 0 && !old) || codings > !old || chunked != codings)
        return HTTP_STATUS_BAD_REQUEST;
    return 0;
}

/* Why it is refused whatever the application says; 0: it is not. */
static enum http_status check_head(struct request *request) {
    const http_parser *parser = &request->parser;
    struct http_parser_url parts;
    struct text url = request_text(request, request->url);
    enum http_status wrong;
    if (parser->http_major != 1)
        return HTTP_STATUS_HTTP_VERSION_NOT_SUPPORTED;
    if ((wrong = check_fields(request)) != 0)
        return wrong;
    if (parser->content_length != UINT64_MAX && parser->content_length > options.body)
        return HTTP_STATUS_PAYLOAD_TOO_LARGE;
    if (parser->method == HTTP_CONNECT)
        return HTTP_STATUS_NOT_IMPLEMENTED; /* what follows is not for this server */
    http_parser_url_init(&parts);
    if (http_parser_parse_url(url.at, url.size, 0, &parts) != 0 ||
        (*url.at == '*' && parser->method != HTTP_OPTIONS))
        return HTTP_STATUS_BAD_REQUEST;
    if (parts.field_set & (1u << UF_PATH))
        request->path = (struct span){(uint16_t)(request->url.at + parts.field_data[UF_PATH].off),
                                      parts.field_data[UF_PATH].len};
    return 0;
}

static bool has_body(const http_parser *parser) {
    return (parser->flags & F_CHUNKED) != 0 ||
           (parser->content_length > 0 && parser->content_length != UINT64_MAX);
}

/* Copies the head, and all but its last byte, where the parser goes on, leaves the stream. */
static bool save_head(struct request *request, mtask_stream *stream) {
    request->room = 2 * request->head_size;
    request->memory = malloc(request->room);
    if (request->memory == NULL)
        return false;
    memcpy(request->memory, request->head, request->head_size);
    request->head = request->memory;
    request->size = request->head_size;
    mtask_stream_skip(stream, request->head_size - 1);
    return true;
}

/* Parses what has come of the body; returns how many bytes that takes. */
static size_t parse_body(struct request *request, const char *data, size_t size) {
    http_parser *parser = &request->parser;
    http_parser_pause(parser, 0);
    size_t parsed = http_parser_execute(parser, &callbacks, data, size);
    enum http_errno error = HTTP_PARSER_ERRNO(parser);
    if (error != HPE_OK && error != HPE_PAUSED && request->wrong == 0)
        request->wrong = parse_error(request, data + parsed);
    if (parsed > 0 && error == HPE_PAUSED && (parser->flags & F_CHUNKED) != 0) {
        char before = parsed > 1 ? data[parsed - 2] : request->last; /* the parser takes anything */
        if (data[parsed - 1] != '\n' || (before != '\r' && !request->ended))
            request->wrong = HTTP_STATUS_BAD_REQUEST;
    }
    if (parsed > 0)
        request->last = data[parsed - 1];
    return parsed;
}

static mtask_status read_body(struct request *request, mtask_stream *stream) {
    static const char go_on[] = "HTTP/1.1 100 Continue\r\n\r\n";
    const char *data;
    size_t size;
    mtask_status status = MTASK_OK;
    if (!save_head(request, stream)) {
        refuse(request, HTTP_STATUS_SERVICE_UNAVAILABLE);
        return status;
    }
    if (request->parser.http_minor > 0 && text_is(request_field(request, "expect"), "100-continue"))
        status = mtask_stream_write(stream, go_on, sizeof go_on - 1, patience(request));
    while (status == MTASK_OK && request->wrong == 0 && !request->ended)
        if ((status = mtask_stream_fill(stream, 1, &data, &size, patience(request))) == MTASK_OK)
            mtask_stream_skip(stream, parse_body(request, data, size));
    return status;
}

/* Reads a request, of which something is here. Unless MTASK_OK nobody waits for an answer. */
static mtask_status read_request(struct request *request, mtask_stream *stream) {
    memset(request, 0, offsetof(struct request, fields));
    http_parser_init(&request->parser, HTTP_REQUEST);
    request->parser.data = request;
    mtask_status status = read_head(request, stream);
    if (status == MTASK_OK && request->wrong == 0)
        request->wrong = check_head(request);
    if (status == MTASK_OK && request->wrong == 0 && has_body(&request->parser))
        status = read_body(request, stream);
    if (status != MTASK_TIMEOUT || !request->begun)
        return status;
    request->wrong = HTTP_STATUS_REQUEST_TIMEOUT;
    return MTASK_OK;
}

/* ---- responses ---- */

struct response {
    mtask_stream *stream;
    mtask_status sent;       /* how far: MTASK_OK, or why it could not be */
    enum http_status status; /* 0: there is none yet */
    bool bare;               /* it goes without its body: HEAD */
    bool keep, say_so;       /* the connection; HTTP/1.0 has to be told */
    size_t line, size;       /* bytes of its first line, and of its head so far */
    char head[ANSWER_ROOM];
};

/* Adds to the head; if it does not fit, the response becomes 500. */
static void put(struct response *response, const char *text, size_t size) {
    if (size > sizeof response->head - response->size) {
        response->sent = MTASK_OVERFLOW;
        return;
    }
    memcpy(response->head + response->size, text, size);
    response->size += size;
}

static void put_string(struct response *response, const char *text) {
    put(response, text, strlen(text));
}

static void put_number(struct response *response, uint64_t number) {
    char digits[20], *at = digits + sizeof digits;
    do
        *--at = (char)('0' + number % 10);
    while ((number /= 10) > 0);
    put(response, at, (size_t)(digits + sizeof digits - at));
}

enum { DATE_ROOM = sizeof "Sun, 06 Nov 1994 08:49:37 GMT" };

static void date_text(char text[DATE_ROOM], time_t time) {
    struct tm parts;
    strftime(text, DATE_ROOM, "%a, %d %b %Y %H:%M:%S GMT", gmtime_r(&time, &parts));
}

/* The time, in text: made once in a second by each loop. */
static const char *date_now(void) {
    static _Thread_local char text[DATE_ROOM];
    static _Thread_local time_t last;
    time_t now = time(NULL);
    if (now != last)
        date_text(text, last = now);
    return text;
}

/* Begins a response. Fields may follow, then its body. */
static void start_response(struct response *response, enum http_status status) {
    response->status = status;
    response->sent = MTASK_OK;
    response->size = 0;
    put(response, "HTTP/1.1 ", 9);
    put_number(response, status);
    put(response, " ", 1);
    put_string(response, http_status_str(status));
    response->line = response->size;
    put(response, "\r\nDate: ", 8);
    put(response, date_now(), DATE_ROOM - 1);
    put(response, "\r\n", 2);
}

static void add_field(struct response *response, const char *name, const char *value) {
    put_string(response, name);
    put(response, ": ", 2);
    put_string(response, value);
    put(response, "\r\n", 2);
}

/* Ends the head of a response with so many bytes of body. */
static void end_head(struct response *response, uint64_t size) {
    if (response->status != HTTP_STATUS_NO_CONTENT &&
        response->status != HTTP_STATUS_NOT_MODIFIED) {
        put(response, "Content-Length: ", 16);
        put_number(response, size);
        put(response, "\r\n", 2);
    }
    if (server != NULL && mtask_server_is_stopping(server))
        response->keep = false; /* no other request will be read */
    if (!response->keep)
        add_field(response, "Connection", "close");
    else if (response->say_so)
        add_field(response, "Connection", "keep-alive");
    put(response, "\r\n", 2);
}

static void send_body(struct response *response, const void *body, size_t size) {
    end_head(response, size);
    const struct iovec parts[] = {{response->head, response->size}, {(void *)body, size}};
    if (response->sent == MTASK_OK)
        response->sent =
            mtask_stream_writev(response->stream, parts, response->bare ? 1 : 2, options.patience);
}

static void send_text(struct response *response, const char *text, size_t size) {
    start_response(response, HTTP_STATUS_OK);
    add_field(response, "Content-Type", "text/plain; charset=utf-8");
    send_body(response, text, size);
}

/* Ends a response whose body says nothing but its status. */
static void send_status(struct response *response) {
    add_field(response, "Content-Type", "text/plain");
    send_body(response, response->head + 9, response->line - 9 + 2);
}

static void respond(struct response *response, enum http_status status) {
    start_response(response, status);
    send_status(response);
}

/* ---- the application ---- */

typedef void handler(struct request *request, struct response *response);
static handler index_page, plain, hello, echo, files;

/* {name} stands for all up to the next slash, {name*} for all that follows. The last two: files. */
static const struct route {
    enum http_method method;
    const char *pattern;
    handler *handler;
} routes[] = {
    {HTTP_GET, "/", index_page},          {HTTP_GET, "/plain", plain},
    {HTTP_GET, "/hello/{name}", hello},   {HTTP_POST, "/echo", echo},
    {HTTP_GET, "/static/{path*}", files}, {HTTP_GET, "/{path*}", files},
};

/* Whether the path is of the pattern's form. If so, `found` (NULL: not wanted) becomes the part of
   that name. */
static bool match(const char *pattern, struct text path, const char *name, struct text *found) {
    while (*pattern != '\0') {
        size_t taken = 1;
        if (*pattern == '{') {
            const char *end = strchr(pattern, '}');
            bool rest = end[-1] == '*';
            struct text key = {pattern + 1, (size_t)(end - pattern) - 1 - rest};
            const char *slash = rest ? NULL : memchr(path.at, '/', path.size);
            taken = slash == NULL ? path.size : (size_t)(slash - path.at);
            if (taken == 0 && !rest)
                return false;
            if (found != NULL && text_is(key, name))
                *found = (struct text){path.at, taken};
            pattern = end;
        } else if (path.size == 0 || *path.at != *pattern) {
            return false;
        }
        path.at += taken;
        path.size -= taken;
        pattern++;
    }
    return path.size == 0;
}

/* What stands in the path for {name} of the route's pattern, as it was sent. */
static struct text request_part(const struct request *request, const char *name) {
    struct text found = {"", 0};
    match(request->pattern, request_path(request), name, &found);
    return found;
}

/* Answers what no route has this method for: `methods` has a bit for each that there is. */
static void respond_methods(const struct request *request, struct response *response,
                            uint64_t methods) {
    bool asked = request->parser.method == HTTP_OPTIONS;
    if (methods == 0) {
        respond(response, HTTP_STATUS_NOT_FOUND);
        return;
    }
    start_response(response, asked ? HTTP_STATUS_NO_CONTENT : HTTP_STATUS_METHOD_NOT_ALLOWED);
    put_string(response, "Allow: OPTIONS");
    for (unsigned method = 0; methods != 0; methods >>= 1, method++)
        if (methods & 1) {
            put(response, ", ", 2);
            put_string(response, http_method_str((enum http_method)method));
        }
    put(response, "\r\n", 2);
    if (asked)
        send_body(response, NULL, 0);
    else
        send_status(response);
}

/* Answers a request: by the first route that fits. */
static void app(struct request *request, struct response *response) {
    struct text path = request_path(request);
    size_t count = sizeof routes / sizeof routes[0] - (options.root < 0 ? 2 : 0);
    uint64_t methods = 0;
    for (const struct route *route = routes; route < routes + count; route++) {
        if (!match(route->pattern, path, NULL, NULL) && !text_is(path, "*"))
            continue;
        uint64_t known = UINT64_C(1) << route->method;
        known |= route->method == HTTP_GET ? UINT64_C(1) << HTTP_HEAD : 0;
        methods |= known;
        if (known >> request->parser.method & 1) {
            request->pattern = route->pattern;
            route->handler(request, response);
            return;
        }
    }
    respond_methods(request, response, methods);
}

static void index_page(struct request *request, struct response *response) {
    static const char text[] =
        "mtask's httpd: try /hello/you, /plain, or POST something to /echo\n";
    (void)request;
    send_text(response, text, sizeof text - 1);
}

/* The least that a server can do: its speed is measured here. */
static void plain(struct request *request, struct response *response) {
    (void)request;
    start_response(response, HTTP_STATUS_OK);
    add_field(response, "Content-Type", "text/plain");
    send_body(response, "Hello, World!", 13);
}

static void hello(struct request *request, struct response *response) {
    char text[6 + NAME_ROOM] = "hello ";
    if (!text_decode(request_part(request, "name"), text + 6, NAME_ROOM - 1)) {
        respond(response, HTTP_STATUS_BAD_REQUEST);
    } else if (mtask_sleep(options.delay) == MTASK_OK) {
        strcat(text, "\n");
        send_text(response, text, strlen(text));
    }
}

static void echo(struct request *request, struct response *response) {
    struct text body = request_body(request);
    start_response(response, HTTP_STATUS_OK);
    add_field(response, "Content-Type", "application/octet-stream");
    send_body(response, body.at, body.size);
}

/* ---- files: an application's part, too ---- */

enum { OPEN_FLAGS = O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC }; /* waits for no FIFO */

static const char *content_type(const char *path) {
    static const char *const types[][2] = {{"html", "text/html; charset=utf-8"},
                                           {"txt", "text/plain; charset=utf-8"},
                                           {"c", "text/plain; charset=utf-8"},
                                           {"h", "text/plain; charset=utf-8"},
                                           {"css", "text/css; charset=utf-8"},
                                           {"js", "text/javascript; charset=utf-8"},
                                           {"json", "application/json"},
                                           {"wasm", "application/wasm"},
                                           {"svg", "image/svg+xml"},
                                           {"png", "image/png"},
                                           {"jpg", "image/jpeg"},
                                           {"ico", "image/x-icon"}};
    const char *dot = strrchr(path, '.');
    for (size_t i = 0; dot != NULL && i < sizeof types / sizeof types[0]; i++)
        if (strcasecmp(dot + 1, types[i][0]) == 0)
            return types[i][1];
    return "application/octet-stream";
}

struct opening {
    char *path; /* below the root, without any ".." */
    int fd, error;
};

/* Opens a file step by step, through no symbolic link. */
static void *open_steps(void *arg) {
    struct opening *opening = arg;
    int place = dup(options.root);
    for (char *name = opening->path, *slash; place >= 0 && name != NULL; name = slash) {
        slash = strchr(name, '/');
        if (slash != NULL)
            *slash++ = '\0';
        opening->fd = openat(place, *name != '\0' ? name : ".", OPEN_FLAGS | O_NOFOLLOW);
        opening->error = errno;
        close(place);
        place = opening->fd;
    }
    return NULL;
}

/* Opens a file, at once if the system finds it without looking on the disk; else in a thread. */
static int open_file(char *path) {
    struct opening opening = {.path = path, .fd = -1, .error = EMFILE};
#ifdef RESOLVE_CACHED
    struct open_how how = {.flags = OPEN_FLAGS,
                           .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_CACHED};
    int fd = (int)syscall(SYS_openat2, options.root, path, &how, sizeof how);
    if (fd >= 0 || (errno != EAGAIN && errno != EINVAL && errno != ENOSYS && errno != EPERM))
        return fd;
#endif
    mtask_offload(open_steps, &opening, NULL);
    errno = opening.error;
    return opening.fd;
}

/* Makes a file's path of what was asked for. False: it leads out of the root, or is none. */
static bool file_path(struct text asked, char path[PATH_ROOM]) {
    if (!text_decode(asked, path, PATH_ROOM - sizeof "index.html"))
        return false;
    for (const char *name = path; name != NULL; name = strchr(name, '/')) {
        name += *name == '/';
        if (strncmp(name, "..", 2) == 0 && (name[2] == '/' || name[2] == '\0'))
            return false;
    }
    if (*path == '\0' || path[strlen(path) - 1] == '/')
        strcat(path, "index.html");
    return true;
}

static enum http_status file_error(int error) {
    return error == EACCES || error == EPERM                       ? HTTP_STATUS_FORBIDDEN
           : error == EMFILE || error == ENFILE || error == ENOMEM ? HTTP_STATUS_SERVICE_UNAVAILABLE
                                                                   : HTTP_STATUS_NOT_FOUND;
}

/* A directory's path has to end in a slash, for the links in it. */
static void redirect(struct response *response, struct text path) {
    while (memchr(path.at, '/', path.size) != NULL)
        path.at++, path.size--;
    start_response(response, HTTP_STATUS_MOVED_PERMANENTLY);
    put_string(response, "Location: ./");
    put(response, path.at, path.size);
    put(response, "/\r\n", 3);
    send_status(response);
}

static bool not_modified(const struct request *request, time_t modified) {
    struct text field = request_field(request, "if-modified-since");
    struct tm since = {0};
    char text[DATE_ROOM] = "";
    if (field.size != DATE_ROOM - 1)
        return false;
    memcpy(text, field.at, field.size);
    const char *end = strptime(text, "%a, %d %b %Y %H:%M:%S GMT", &since);
    return end != NULL && *end == '\0' && modified <= timegm(&since);
}

/* Reads digits; false if there are none, or too many. */
static bool parse_number(const char **at, uint64_t *number) {
    const char *start = *at;
    for (*number = 0; **at >= '0' && **at <= '9'; ++*at)
        *number = *number * 10 + (uint64_t)(**at - '0');
    return *at > start && *at - start < 19;
}

struct range {
    uint64_t first, size;
};

/* Narrows the range, of a whole file, to "bytes=FIRST-LAST", "bytes=FIRST-" or "bytes=-COUNT".
   Others, several at once too, are as if not asked for. Returns the response's status. */
static enum http_status find_range(struct text field, struct range *range) {
    char text[48] = "";
    const char *at = text + 6;
    uint64_t size = range->size, first = 0, last = size;
    if (field.size < 6 || field.size >= sizeof text || strncasecmp(field.at, "bytes=", 6) != 0)
        return HTTP_STATUS_OK;
    memcpy(text, field.at, field.size);
    bool from = parse_number(&at, &first), dash = *at == '-', to = dash && at++ && *at != '\0';
    if (!dash || !(from || to) || (to && !parse_number(&at, &last)) || *at != '\0')
        return HTTP_STATUS_OK;
    if (!from) {
        first = last < size ? size - last : 0;
        last = size;
    }
    if (first >= size || last < first)
        return HTTP_STATUS_RANGE_NOT_SATISFIABLE;
    last = last < size ? last : size - 1;
    *range = (struct range){first, last - first + 1};
    return HTTP_STATUS_PARTIAL_CONTENT;
}

static void add_content_range(struct response *response, const struct range *range, uint64_t size) {
    put_string(response, "Content-Range: bytes ");
    if (response->status == HTTP_STATUS_PARTIAL_CONTENT) {
        put_number(response, range->first);
        put(response, "-", 1);
        put_number(response, range->first + range->size - 1);
    } else {
        put(response, "*", 1);
    }
    put(response, "/", 1);
    put_number(response, size);
    put(response, "\r\n", 2);
}

static void send_pieces(struct response *response, int fd, struct range range) {
    end_head(response, range.size);
    if (response->sent == MTASK_OK)
        response->sent =
            mtask_stream_write(response->stream, response->head, response->size, options.patience);
    while (!response->bare && range.size > 0 && response->sent == MTASK_OK) {
        size_t piece = range.size < FILE_PIECE ? (size_t)range.size : FILE_PIECE;
        response->sent = mtask_stream_sendfile(response->stream, fd, (int64_t)range.first, piece,
                                               options.patience);
        range.first += piece;
        range.size -= piece;
    }
}

static void send_file(const struct request *request, struct response *response, int fd,
                      const char *type, const struct stat *info) {
    struct range range = {0, (uint64_t)info->st_size};
    enum http_status status = HTTP_STATUS_OK;
    char modified[DATE_ROOM];
    date_text(modified, info->st_mtime);
    struct text condition = request_field(request, "if-range");
    if (not_modified(request, info->st_mtime))
        status = HTTP_STATUS_NOT_MODIFIED;
    else if (!response->bare && (condition.size == 0 || text_is(condition, modified)))
        status = find_range(request_field(request, "range"), &range);
    start_response(response, status);
    add_field(response, "Last-Modified", modified);
    if (status == HTTP_STATUS_RANGE_NOT_SATISFIABLE || status == HTTP_STATUS_PARTIAL_CONTENT)
        add_content_range(response, &range, (uint64_t)info->st_size);
    if (status == HTTP_STATUS_RANGE_NOT_SATISFIABLE) {
        send_status(response);
        return;
    }
    add_field(response, "Accept-Ranges", "bytes");
    add_field(response, "Content-Type", type);
    if (status == HTTP_STATUS_NOT_MODIFIED)
        send_body(response, NULL, 0);
    else
        send_pieces(response, fd, range);
}

static void files(struct request *request, struct response *response) {
    char path[PATH_ROOM];
    struct stat info;
    if (!file_path(request_part(request, "path"), path)) {
        respond(response, HTTP_STATUS_BAD_REQUEST);
        return;
    }
    const char *type = content_type(path);
    int fd = open_file(path);
    if (fd < 0 || fstat(fd, &info) != 0)
        respond(response, file_error(errno));
    else if (S_ISDIR(info.st_mode))
        redirect(response, request_path(request));
    else if (S_ISREG(info.st_mode))
        send_file(request, response, fd, type, &info);
    else
        respond(response, HTTP_STATUS_FORBIDDEN);
    if (fd >= 0)
        close(fd);
}

/* ---- a connection ---- */

/* Lets a client that was refused read why, before what it sends runs into a closed door. */
static void linger(mtask_stream *stream) {
    int64_t deadline = mtask_deadline(MTASK_SEC(LINGER));
    const char *data;
    size_t size;
    if (mtask_stream_shutdown(stream, options.patience) != MTASK_OK)
        return;
    while (mtask_stream_fill(stream, 1, &data, &size, mtask_until(deadline)) == MTASK_OK)
        mtask_stream_skip(stream, size);
}

static void answer(struct request *request, struct response *response) {
    const http_parser *parser = &request->parser;
    response->bare = parser->method == HTTP_HEAD && request->url.size > 0; /* known for sure */
    response->say_so = parser->http_minor == 0;
    response->keep = request->wrong == 0 && http_should_keep_alive(parser);
    if (request->wrong != 0)
        respond(response, request->wrong);
    else
        app(request, response);
    if (response->status == 0 || response->sent == MTASK_OVERFLOW)
        respond(response, HTTP_STATUS_INTERNAL_SERVER_ERROR);
}

/* Reads and answers a request. Returns whether another one may follow. */
static bool serve_request(mtask_stream *stream) {
    struct request request;
    struct response response;
    bool keep = false;
    if (read_request(&request, stream) == MTASK_OK) {
        memset(&response, 0, offsetof(struct response, head));
        response.stream = stream;
        answer(&request, &response);
        keep = response.keep && response.sent == MTASK_OK;
        if (request.wrong != 0)
            linger(stream);
        else if (request.memory == NULL)
            mtask_stream_skip(stream, request.head_size);
    }
    free(request.memory);
    return keep;
}

/* The task of a connection. */
static void serve(mtask_stream *stream, void *ctx) {
    (void)ctx;
    while (mtask_stream_idle(stream, options.idle) == MTASK_OK && serve_request(stream))
        continue;
}

/* ---- main ---- */

static _Noreturn void usage(int status) {
    fputs("usage: httpd [-p ADDRESS] [-d DIRECTORY] [-l LOOPS] [-c CONNECTIONS] [-b BYTES]\n"
          "             [-t SECONDS] [-k SECONDS]\n",
          status == 0 ? stdout : stderr);
    exit(status);
}

static _Noreturn void die(const char *what, const char *why) {
    fprintf(stderr, "httpd: %s: %s\n", what, why);
    exit(EXIT_FAILURE);
}

enum { USAGE = 2 }; /* exit status */

static double parse_option(const char *text, double least, double most) {
    char *end;
    double number = strtod(text, &end);
    if (end == text || *end != '\0' || !(number >= least && number <= most))
        usage(USAGE);
    return number;
}

static void open_root(const char *path) {
    options.root = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (options.root < 0)
        die(path, strerror(errno));
}

static void parse_options(int argc, char **argv) {
    static const struct option names[] = {{"help", no_argument, NULL, 'h'}, {NULL, 0, NULL, 0}};
    for (int o; (o = getopt_long(argc, argv, "p:d:l:c:b:t:k:", names, NULL)) != -1;)
        switch (o) {
        case 'p':
            options.address = optarg;
            break;
        case 'd':
            open_root(optarg);
            break;
        case 'l':
            options.loops = (unsigned)parse_option(optarg, 1, 1024);
            break;
        case 'c':
            options.connections = (size_t)parse_option(optarg, 1, 1e9);
            break;
        case 'b':
            options.body = (size_t)parse_option(optarg, 0, 1e9);
            break;
        case 't':
            options.patience = (int64_t)(parse_option(optarg, 0.001, 1e6) * 1e9);
            break;
        case 'k':
            options.idle = (int64_t)(parse_option(optarg, 0.001, 1e6) * 1e9);
            break;
        default:
            usage(o == 'h' ? EXIT_SUCCESS : USAGE);
        }
    if (optind < argc)
        usage(USAGE);
}

/* Each connection is a descriptor: as many as the system allows. */
static void raise_limit(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

static void on_ready(mtask_server *started, void *ctx) {
    mtask_address address;
    char text[MTASK_ADDRESS_TEXT];
    (void)ctx;
    server = started;
    if (mtask_server_address(server, &address) != MTASK_OK)
        return;
    printf("httpd: http://%s/\n", mtask_address_text(&address, text, sizeof text));
    fflush(stdout);
}

int main(int argc, char **argv) {
    char port[32];
    parse_options(argc, argv);
    if (strspn(options.address, "0123456789") == strlen(options.address)) {
        snprintf(port, sizeof port, "127.0.0.1:%s", options.address);
        options.address = port;
    }
    options.delay = seconds(0.5);
    raise_limit();
    mtask_serve_desc desc = {.loops = options.loops,
                             .max_connections = options.connections,
                             .signals = true,
                             .on_ready = on_ready};
    mtask_status status = mtask_serve(options.address, serve, &desc);
    if (status != MTASK_OK)
        die(options.address, status == MTASK_SYSTEM ? strerror(errno) : mtask_strerror(status));
    return EXIT_SUCCESS;
}
