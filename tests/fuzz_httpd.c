// clang -g -O1 -fsanitize=fuzzer,address,undefined -pthread -I. -o /tmp/fuzz_httpd tests/fuzz_httpd.c -lhttp_parser
/* fuzz_httpd.c - whatever comes over a connection, examples/httpd.c answers, and ends

       /tmp/fuzz_httpd -max_total_time=20 SCRATCH tests/fuzz/httpd

   (new finds go to the first directory.) An input's first byte says in what pieces the rest is sent
   to the connection's handler: of so many bytes; 0: in one. The answers must be a row of whole
   responses, of which none follows one that says "Connection: close"; and they must be the same when
   all comes in one piece. (Not where HEAD is in it: only the client knows which response has no
   body then.) The handler must end when the input does; a hang is libFuzzer's to find. */

#define main httpd_main
#include "../examples/httpd.c"
#undef main
#include <stddef.h>

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CHECK(condition)                                                                           \
 ((condition) ? (void)0 : (fprintf(stderr, "%s does not hold\n", #condition), abort()))

enum { BODY_LIMIT = 300, KEPT = 1 << 16 };

/* What the server says: the status and body of each response, one after the other. */
struct said {
    http_parser parser;
    bool whole;  /* the last response is */
    bool closed; /* nothing more may follow */
    bool any;    /* something was said */
    size_t size; /* bytes, also those that are not kept */
    char kept[KEPT];
};

/* A run: three tasks, the server, the one that sends, and the one that reads. */
struct run {
    int ends[2]; /* the server's, the client's */
    const char *input;
    size_t size, piece;
    bool lenient; /* the responses cannot be told apart */
    struct said *said;
};

/* ---- what the server says ---- */

static void keep(struct said *said, const void *bytes, size_t size) {
    if (said->size + size <= KEPT)
        memcpy(said->kept + said->size, bytes, size);
    said->size += size;
}

static int on_response(http_parser *parser) {
    struct said *said = parser->data;
    CHECK(!said->closed);
    said->whole = false;
    return 0;
}

static int on_response_head(http_parser *parser) {
    uint16_t status = (uint16_t)parser->status_code;
    CHECK(status >= 100 && status < 600 && parser->http_major == 1);
    CHECK(status == 100 || status == 204 || status == 304 || parser->content_length != UINT64_MAX);
    keep(parser->data, &status, sizeof status);
    return 0;
}

static int on_response_body(http_parser *parser, const char *at, size_t size) {
    keep(parser->data, at, size);
    return 0;
}

static int on_response_end(http_parser *parser) {
    struct said *said = parser->data;
    said->whole = true;
    said->closed = (parser->flags & F_CONNECTION_CLOSE) != 0;
    return 0;
}

static void hear(struct run *run, const char *bytes, size_t size) {
    static const http_parser_settings responses = {.on_message_begin = on_response,
                                                   .on_headers_complete = on_response_head,
                                                   .on_body = on_response_body,
                                                   .on_message_complete = on_response_end};
    struct said *said = run->said;
    static const char version[] = "HTTP/1.";
    if (!said->any)
        CHECK(memcmp(bytes, version, size < 7 ? size : 7) == 0);
    said->any = true;
    if (run->lenient)
        return;
    CHECK(http_parser_execute(&said->parser, &responses, bytes, size) == size);
    CHECK(HTTP_PARSER_ERRNO(&said->parser) == HPE_OK);
}

/* ---- a connection ---- */

static void *run_server(void *arg) {
    struct run *run = arg;
    mtask_stream *stream;
    CHECK(mtask_stream_open(&stream, run->ends[0], NULL) == MTASK_OK);
    serve(stream, NULL);
    mtask_stream_close(stream, MTASK_SEC(10));
    mtask_stream_destroy(stream);
    return NULL;
}

/* The server may have closed the connection meanwhile. */
static void *run_sender(void *arg) {
    struct run *run = arg;
    mtask_status status = MTASK_OK;
    for (size_t at = 0; at < run->size && status == MTASK_OK; at += run->piece) {
        size_t left = run->size - at;
        status = mtask_io_write(run->ends[1], run->input + at,
                                left < run->piece ? left : run->piece, NULL, MTASK_FOREVER);
        mtask_yield();
        mtask_yield();
    }
    shutdown(run->ends[1], SHUT_WR);
    return NULL;
}

static void *run_all(void *arg) {
    static char bytes[1 << 16];
    struct run *run = arg;
    size_t size;
    CHECK(mtask_io_pair(run->ends) == MTASK_OK);
    CHECK(mtask_go(run_server, run, NULL) == MTASK_OK);
    mtask_future *sender;
    CHECK(mtask_go(run_sender, run, &sender) == MTASK_OK);
    while (mtask_io_read(run->ends[1], bytes, sizeof bytes, &size, MTASK_FOREVER) == MTASK_OK)
        hear(run, bytes, size);
    mtask_future_wait(sender, MTASK_FOREVER);
    mtask_future_release(sender);
    mtask_io_close(run->ends[1]);
    return NULL;
}

/* Sends the input in such pieces, and fills in what is said. */
static void try_pieces(struct run *run, size_t piece, struct said *said) {
    run->piece = piece > 0 ? piece : run->size + 1;
    run->said = said;
    memset(said, 0, offsetof(struct said, kept));
    http_parser_init(&said->parser, HTTP_RESPONSE);
    said->parser.data = said;
    said->whole = true;
    CHECK(mtask_loop_run(run_all, run, NULL) == MTASK_OK);
    CHECK(run->lenient || said->whole);
}

/* ---- the fuzzer's side ---- */

static char directory[] = "/tmp/fuzz_httpd.XXXXXX";

static void remove_directory(void) {
    unlinkat(options.root, "a.txt", 0);
    rmdir(directory);
}

/* A directory with one file to be served, limits that short inputs reach, and no waiting. */
int LLVMFuzzerInitialize(int *argc, char ***argv) {
    (void)argc, (void)argv;
    CHECK(mkdtemp(directory) != NULL);
    open_root(directory);
    int fd = openat(options.root, "a.txt", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    CHECK(fd >= 0 && write(fd, "0123456789\n", 11) == 11 && close(fd) == 0);
    atexit(remove_directory);
    options.body = BODY_LIMIT;
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct said pieces, whole;
    if (size == 0)
        return 0;
    struct run run = {.input = (const char *)data + 1, .size = size - 1};
    run.lenient = memmem(run.input, run.size, "HEAD", 4) != NULL;
    try_pieces(&run, data[0], &pieces);
    if (data[0] == 0 || run.lenient)
        return 0;
    try_pieces(&run, 0, &whole);
    CHECK(pieces.size == whole.size);
    CHECK(memcmp(pieces.kept, whole.kept, whole.size < KEPT ? whole.size : KEPT) == 0);
    return 0;
}
