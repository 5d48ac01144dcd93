// mkdir -p build && cc -O2 -pthread -I. -o build/88_listener examples/88_listener.c -lcrypto
//
// A master and workers that need have nothing in common but an address and a key: the master listens
// there, workers connect, get numbers, and send back their squares. Both sides prove that they know
// the key; it is never sent. Whoever has another one is refused. What goes over the wire is what
// Python's multiprocessing.connection sends: a Client there, with authkey, send_bytes and
// recv_bytes, could be a worker, too (up to Python 3.11 if the description has .md5 = true).
//
// Output (any order):
//   a worker with another key: MTASK_AUTH; the master: MTASK_AUTH
//   0 * 0 = 0
//   1 * 1 = 1
//   2 * 2 = 4
//   3 * 3 = 9
//   4 * 4 = 16
//   5 * 5 = 25
//   6 * 6 = 36
//   7 * 7 = 49
//   8 * 8 = 64
//   9 * 9 = 81
//   all 2 workers worked, and ended well
#define MTASK_IMPLEMENTATION
#include "mtask_proc.h"
#include "common.h"
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <string.h>

enum { WORKERS = 2, TASKS = 10 };

static char address[MTASK_ADDRESS_TEXT];

/* OpenSSL computes what proves that one knows the key. */
static bool hmac(const char *digest, const void *key, size_t key_size, const void *data,
                 size_t size, unsigned char *mac, size_t *mac_size, void *ctx) {
    const EVP_MD *kind = EVP_get_digestbyname(digest);
    unsigned int length;
    (void)ctx;
    if (kind == NULL ||
        HMAC(kind, key, (int)key_size, (const unsigned char *)data, size, mac, &length) == NULL)
        return false;
    *mac_size = length;
    return true;
}

static mtask_conn_desc with_key(const char *key) {
    return (mtask_conn_desc){.key = key, .key_size = strlen(key), .hmac = hmac};
}

/* A worker: another process, on whatever machine. It ends when the master closes the connection. */
static void *worker(void *key) {
    mtask_conn_desc desc = with_key((const char *)key);
    mtask_conn *master;
    intptr_t done = 0;
    int n, result;
    size_t size;
    mtask_status status = mtask_conn_connect(&master, address, &desc, MTASK_SEC(10));
    if (status != MTASK_OK)
        return mtask_fail(status, "not let in");
    while (mtask_conn_recv_into(master, &n, sizeof n, &size, MTASK_FOREVER) == MTASK_OK) {
        MUST(mtask_sleep(seconds(0.1)));
        result = n * n;
        MUST(mtask_conn_send(master, &result, sizeof result, MTASK_FOREVER));
        done++;
    }
    MUST(mtask_conn_close(master));
    return (void *)done;
}

/* One who does not know the key, and how the listener calls that. */
static void try_another_key(mtask_conn_listener *listener) {
    mtask_proc *stranger;
    mtask_outcome outcome;
    mtask_conn *none;
    MUST(mtask_proc_start(&stranger, worker, (void *)"xyz"));
    mtask_status refused = mtask_conn_listener_accept(listener, &none, MTASK_SEC(10));
    (void)mtask_proc_join(stranger, &outcome, MTASK_FOREVER);
    printf("a worker with another key: %s; the master: %s\n", mtask_status_name(outcome.status),
           mtask_status_name(refused));
    MUST(mtask_proc_close(stranger));
}

/* Gives each worker a number, and another one for each result, until all are done. */
static void deal_out(mtask_conn **workers) {
    mtask_conn_case cases[WORKERS];
    int task[WORKERS], next = 0, done = 0, result;
    size_t size;
    for (int i = 0; i < WORKERS; i++) {
        cases[i] = (mtask_conn_case){.conn = workers[i]};
        task[i] = next++;
        MUST(mtask_conn_send(workers[i], &task[i], sizeof task[i], MTASK_FOREVER));
    }
    while (done < TASKS) {
        MUST(mtask_conn_wait(cases, WORKERS, MTASK_FOREVER));
        for (int i = 0; i < WORKERS; i++) {
            if (!cases[i].ready)
                continue;
            MUST(mtask_conn_recv_into(workers[i], &result, sizeof result, &size, MTASK_FOREVER));
            printf("%d * %d = %d\n", task[i], task[i], result);
            done++;
            task[i] = next++;
            if (task[i] < TASKS)
                MUST(mtask_conn_send(workers[i], &task[i], sizeof task[i], MTASK_FOREVER));
        }
    }
}

int main(void) {
    mtask_conn_desc desc = with_key("abc");
    mtask_conn_listener *listener;
    mtask_conn *workers[WORKERS];
    mtask_proc *processes[WORKERS];
    mtask_address at;
    int worked = 0;
    MUST(mtask_conn_listener_open(&listener, "127.0.0.1:0", &desc));
    MUST(mtask_conn_listener_address(listener, &at));
    mtask_address_text(&at, address, sizeof address);
    try_another_key(listener);
    for (int i = 0; i < WORKERS; i++) {
        MUST(mtask_proc_start(&processes[i], worker, (void *)"abc"));
        MUST(mtask_conn_listener_accept(listener, &workers[i], MTASK_SEC(10)));
    }
    deal_out(workers);
    for (int i = 0; i < WORKERS; i++)
        MUST(mtask_conn_close(workers[i]));
    for (int i = 0; i < WORKERS; i++) {
        mtask_outcome outcome;
        MUST(mtask_proc_join(processes[i], &outcome, MTASK_FOREVER));
        MUST(mtask_proc_close(processes[i]));
        worked += outcome.value != NULL;
    }
    printf("all %d workers worked, and ended well\n", worked);
    mtask_conn_listener_close(listener);
    return 0;
}
