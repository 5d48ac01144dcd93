// mkdir -p build && cc -O2 -pthread -I. -o build/67_tls examples/67_tls.c -lssl -lcrypto
//
// TLS over streams. mtask_io.h has none, and needs none: OpenSSL works on two buffers in memory,
// its BIOs, and says when it wants more; a loop of ten lines carries bytes between them and a
// stream. So an HTTPS server and its clients are tasks of one loop here. The certificate is made
// at the start; a client that knows it is answered, one that does not refuses.
//
// `build/67_tls ADDRESS FILE` writes the certificate to FILE and serves at ADDRESS until Ctrl-C:
// curl --cacert FILE https://localhost:8443/
//
// Output (any order):
//   client 1: TLSv1.3, HTTP/1.1 200 OK, you asked for /1
//   client 2: TLSv1.3, HTTP/1.1 200 OK, you asked for /2
//   client 3: TLSv1.3, HTTP/1.1 200 OK, you asked for /3
//   stranger: the certificate is not trusted
//   echo: sent 1000000 bytes and got the same: yes
#define MTASK_IMPLEMENTATION
#include "mtask_io.h"
#include "common.h"
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <string.h>

/* ---- TLS over a stream ---- */

/* One task at a time uses it. */
typedef struct Tls {
    SSL *ssl;
    BIO *in, *out; /* what came, and what is to be sent; they belong to `ssl` */
    mtask_stream *stream;
} Tls;

static mtask_status tls_open(Tls *tls, SSL_CTX *context, mtask_stream *stream) {
    *tls = (Tls){SSL_new(context), BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()), stream};
    if (tls->ssl == NULL || tls->in == NULL || tls->out == NULL)
        return MTASK_NOMEM; /* (this example ends then) */
    SSL_set_bio(tls->ssl, tls->in, tls->out);
    return MTASK_OK;
}

/* Sends what OpenSSL has written. */
static mtask_status tls_flush(Tls *tls) {
    char *data;
    mtask_status status = MTASK_OK;
    long size = BIO_get_mem_data(tls->out, &data);
    if (size > 0)
        status = mtask_stream_write(tls->stream, data, (size_t)size, MTASK_SEC(60));
    (void)BIO_reset(tls->out);
    return status;
}

/* Waits for input and hands it to OpenSSL. */
static mtask_status tls_feed(Tls *tls) {
    const char *data;
    size_t size;
    mtask_status status = mtask_stream_fill(tls->stream, 1, &data, &size, MTASK_SEC(60));
    if (status != MTASK_OK) /* an end that TLS does not tell of: anybody on the way can make it */
        return status == MTASK_CLOSED ? MTASK_BROKEN : status;
    if (BIO_write(tls->in, data, (int)size) != (int)size)
        return MTASK_NOMEM;
    return mtask_stream_skip(tls->stream, size);
}

typedef enum TlsCall { TLS_HANDSHAKE, TLS_READ, TLS_WRITE, TLS_END } TlsCall;

static int tls_try(Tls *tls, TlsCall call, void *data, size_t size, size_t *count) {
    ERR_clear_error(); /* the list of errors is the thread's: other tasks write there, too */
    switch (call) {
    case TLS_HANDSHAKE:
        return SSL_do_handshake(tls->ssl);
    case TLS_READ:
        return SSL_read_ex(tls->ssl, data, size, count);
    case TLS_WRITE:
        return SSL_write_ex(tls->ssl, data, size, count);
    default:
        return SSL_shutdown(tls->ssl) >= 0;
    }
}

/* Makes a call of OpenSSL; as often as it wants something of the network, brings that.
   MTASK_FAILED: it is no TLS, or the certificate is not good. */
static mtask_status tls_do(Tls *tls, TlsCall call, void *data, size_t size, size_t *count) {
    for (;;) {
        int result = tls_try(tls, call, data, size, count);
        int error = result > 0 ? SSL_ERROR_NONE : SSL_get_error(tls->ssl, result);
        mtask_status status = tls_flush(tls);
        if (status == MTASK_OK && error == SSL_ERROR_WANT_READ)
            status = tls_feed(tls);
        if (status != MTASK_OK || error == SSL_ERROR_NONE)
            return status;
        if (error == SSL_ERROR_ZERO_RETURN)
            return MTASK_CLOSED;
        if (error != SSL_ERROR_WANT_READ)
            return MTASK_FAILED;
    }
}

static void tls_close(Tls *tls) {
    (void)tls_do(tls, TLS_END, NULL, 0, NULL); /* tells the other end that this is the end */
    SSL_free(tls->ssl);
}

/* ---- the certificate ---- */

static X509 *certificate;
static EVP_PKEY *key;

static void check(bool good) {
    if (good)
        return;
    ERR_print_errors_fp(stderr);
    exit(EXIT_FAILURE);
}

/* Makes a key, and a certificate for "localhost" that is signed by itself. */
static void make_certificate(void) {
    key = EVP_EC_gen("P-256");
    certificate = X509_new();
    check(key != NULL && certificate != NULL);
    X509_NAME *name = X509_get_subject_name(certificate);
    X509_EXTENSION *names = X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, "DNS:localhost");
    check(names != NULL && X509_set_version(certificate, 2) == 1 &&
          ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1) == 1 &&
          X509_gmtime_adj(X509_getm_notBefore(certificate), -60) != NULL &&
          X509_gmtime_adj(X509_getm_notAfter(certificate), 86400) != NULL &&
          X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)"localhost",
                                     -1, -1, 0) == 1 &&
          X509_set_issuer_name(certificate, name) == 1 && X509_set_pubkey(certificate, key) == 1 &&
          X509_add_ext(certificate, names, -1) == 1 &&
          X509_sign(certificate, key, EVP_sha256()) > 0);
    X509_EXTENSION_free(names);
}

/* What a client needs that trusts the certificate, or none at all. */
static SSL_CTX *client_context(bool trusting) {
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());
    check(context != NULL);
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
    if (trusting)
        check(X509_STORE_add_cert(SSL_CTX_get_cert_store(context), certificate) == 1);
    return context;
}

static SSL_CTX *server_context(void) {
    SSL_CTX *context = SSL_CTX_new(TLS_server_method());
    check(context != NULL && SSL_CTX_use_certificate(context, certificate) == 1 &&
          SSL_CTX_use_PrivateKey(context, key) == 1);
    return context;
}

/* ---- the server ---- */

/* Reads up to an empty line. */
static mtask_status read_head(Tls *tls, char *text, size_t capacity) {
    size_t size = 0, n;
    mtask_status status;
    do {
        if (size == capacity - 1)
            return MTASK_OVERFLOW;
        status = tls_do(tls, TLS_READ, text + size, capacity - 1 - size, &n);
        size += status == MTASK_OK ? n : 0;
        text[size] = '\0';
    } while (status == MTASK_OK && strstr(text, "\r\n\r\n") == NULL);
    return status;
}

/* Answers a request. */
static void serve_page(Tls *tls) {
    char request[4000], path[200], answer[500];
    size_t n;
    if (read_head(tls, request, sizeof request) != MTASK_OK ||
        sscanf(request, "GET %199s HTTP/", path) != 1)
        return;
    snprintf(answer, sizeof answer,
             "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n"
             "you asked for %s\n",
             strlen(path) + strlen("you asked for \n"), path);
    (void)tls_do(tls, TLS_WRITE, answer, strlen(answer), &n);
}

/* Sends back all that comes. */
static void serve_echo(Tls *tls) {
    char bytes[4096];
    size_t n, sent;
    while (tls_do(tls, TLS_READ, bytes, sizeof bytes, &n) == MTASK_OK)
        if (tls_do(tls, TLS_WRITE, bytes, n, &sent) != MTASK_OK)
            return;
}

typedef struct Service {
    void (*serve)(Tls *tls);
    SSL_CTX *context;
    mtask_server *server;
    char address[MTASK_ADDRESS_TEXT];
} Service;

static Service pages = {.serve = serve_page}, echoes = {.serve = serve_echo};

static void serve(mtask_stream *stream, void *ctx) {
    const Service *service = (const Service *)ctx;
    Tls tls;
    MUST(tls_open(&tls, service->context, stream));
    SSL_set_accept_state(tls.ssl);
    if (tls_do(&tls, TLS_HANDSHAKE, NULL, 0, NULL) == MTASK_OK)
        service->serve(&tls);
    tls_close(&tls);
}

static void start(Service *service, SSL_CTX *context) {
    mtask_serve_desc desc = {.ctx = service};
    mtask_address at;
    service->context = context;
    MUST(mtask_server_start(&service->server, "127.0.0.1:0", serve, &desc));
    MUST(mtask_server_address(service->server, &at));
    mtask_address_text(&at, service->address, sizeof service->address);
}

/* ---- the clients ---- */

typedef struct Client {
    const char *name, *path;
    bool trusting;
} Client;

static void print_page(Tls *tls, const Client *client) {
    char text[1000];
    size_t size, n = 0;
    snprintf(text, sizeof text, "GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n", client->path);
    MUST(tls_do(tls, TLS_WRITE, text, strlen(text), &n));
    for (size = 0; tls_do(tls, TLS_READ, text + size, sizeof text - 1 - size, &n) == MTASK_OK;)
        size += n;
    text[size] = '\0';
    const char *body = strstr(text, "\r\n\r\n");
    printf("%s: %s, %.*s, %s", client->name, SSL_get_version(tls->ssl), (int)strcspn(text, "\r"),
           text, body == NULL ? "and no more\n" : body + 4);
}

static void print_echo(Tls *tls, const Client *client) {
    static char sent[1000000], got[sizeof sent]; /* of this one task */
    size_t size = 0, n;
    for (size_t i = 0; i < sizeof sent; i++)
        sent[i] = (char)(i * i % 251);
    for (size_t at = 0; at < sizeof sent; at = size) { /* a part there, and back */
        MUST(tls_do(tls, TLS_WRITE, sent + at, at + 10000 < sizeof sent ? 10000 : sizeof sent - at,
                    &n));
        for (size_t end = at + n; size < end; size += n)
            MUST(tls_do(tls, TLS_READ, got + size, end - size, &n));
    }
    printf("%s: sent %zu bytes and got the same: %s\n", client->name, size,
           memcmp(sent, got, sizeof sent) == 0 ? "yes" : "no");
}

static void *visit(void *arg) {
    const Client *client = (const Client *)arg;
    const Service *service = client->path == NULL ? &echoes : &pages;
    SSL_CTX *context = client_context(client->trusting);
    mtask_stream *stream;
    Tls tls;
    MUST(mtask_stream_connect(&stream, service->address, NULL, MTASK_SEC(60)));
    MUST(tls_open(&tls, context, stream));
    SSL_set_connect_state(tls.ssl);
    check(SSL_set1_host(tls.ssl, "localhost") == 1); /* whose certificate it must be */
    if (tls_do(&tls, TLS_HANDSHAKE, NULL, 0, NULL) != MTASK_OK)
        printf("%s: %s\n", client->name,
               SSL_get_verify_result(tls.ssl) == X509_V_OK ? "no TLS"
                                                           : "the certificate is not trusted");
    else if (client->path == NULL)
        print_echo(&tls, client);
    else
        print_page(&tls, client);
    tls_close(&tls);
    mtask_stream_destroy(stream);
    SSL_CTX_free(context);
    return NULL;
}

static void *demonstrate(void *context) {
    static Client clients[] = {{"client 1", "/1", true},
                               {"client 2", "/2", true},
                               {"client 3", "/3", true},
                               {"stranger", "/", false},
                               {"echo", NULL, true}};
    mtask_taskgroup visits;
    start(&pages, (SSL_CTX *)context);
    start(&echoes, (SSL_CTX *)context);
    MUST(mtask_taskgroup_begin(&visits));
    for (size_t i = 0; i < sizeof clients / sizeof *clients; i++)
        MUST(mtask_taskgroup_go(&visits, visit, &clients[i], NULL));
    MUST(mtask_taskgroup_end(&visits, NULL));
    MUST(mtask_server_destroy(echoes.server));
    MUST(mtask_server_destroy(pages.server));
    return NULL;
}

static void save_certificate(const char *path) {
    FILE *file = fopen(path, "w");
    if (file == NULL || PEM_write_X509(file, certificate) != 1 || fclose(file) != 0) {
        perror(path);
        exit(EXIT_FAILURE);
    }
}

int main(int argc, char **argv) {
    mtask_serve_desc desc = {.ctx = &pages, .signals = true};
    make_certificate();
    SSL_CTX *context = server_context();
    if (argc == 3) {
        save_certificate(argv[2]);
        pages.context = context;
        MUST(mtask_serve(argv[1], serve, &desc));
    } else {
        MUST(mtask_loop_run(demonstrate, context, NULL));
    }
    SSL_CTX_free(context);
    X509_free(certificate);
    EVP_PKEY_free(key);
    return 0;
}
