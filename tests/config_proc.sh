#!/usr/bin/env bash
# config_proc.sh - mtask_proc.h in the programs that it may meet: C and C++, with each option,
# implemented apart from the others, static in two files, linked in each way that decides where a
# program lies in memory, with another C library, on other CPUs (in an emulator), with tasks that
# stand in shared libraries, and under Valgrind, which looks for leaks of memory and of descriptors.
# shellcheck source=tests/lib.sh
. "$(dirname "$0")/lib.sh"

# What the programs below have in common: a bit of everything. EMULATED: qemu-user, and Valgrind, start
# no program anew under themselves, do not tell posix_spawn that there is no such program, and its end
# is not awaited; and qemu has no locks between processes for tasks of a loop.
cat >"$OUT/use.h" <<'END'
#include "mtask_proc.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define USED_OR_NOT static __attribute__((unused))

/* Leaves the function with the number of the line unless the condition holds. */
#define NEED(condition)                                                                            \
 do {                                                                                              \
  if (!(condition))                                                                                \
   return __LINE__;                                                                                \
 } while (0)

/* Nothing waits so long. */
#define LONG MTASK_SEC(60)

#ifdef EMULATED
# define MOMENT MTASK_MS(200) /* in which a command has begun */
#else
# define MOMENT MTASK_MS(5)
#endif

/* ---- tasks ---- */

static void *divide(void *arg) {
    long n = (long)(intptr_t)arg;
    if (n == 0)
        return mtask_fail(MTASK_INVALID, "%d cannot be divided by %ld", 100, n);
    return (void *)(intptr_t)(100 / n);
}

static void *crash(void *arg) {
    (void)raise(SIGKILL);
    return arg;
}

/* Capital letters; fails if there are none to make. */
static mtask_status shout(const void *in, size_t size, mtask_buf *out) {
    const char *text = (const char *)in;
    if (size == 0)
        return MTASK_NOT_FOUND;
    for (size_t i = 0; i < size; i++)
        if (mtask_buf_printf(out, "%c", text[i] & ~32) != MTASK_OK)
            return MTASK_NOMEM;
    return MTASK_OK;
}

static mtask_status square(const void *in, size_t size, mtask_buf *out) {
    int64_t n;
    if (size != sizeof n)
        return MTASK_INVALID;
    memcpy(&n, in, sizeof n);
    n *= n;
    return mtask_buf_append(out, &n, sizeof n);
}

static mtask_status end_itself(const void *in, size_t size, mtask_buf *out) {
    (void)in;
    (void)out;
    (void)raise(size == 0 ? SIGKILL : SIGTERM);
    return MTASK_OK;
}

static bool holds(const mtask_buf *buf, const char *text) {
    return buf->size == strlen(text) && memcmp(buf->data, text, buf->size) == 0;
}

/* ---- processes ---- */

static int use_bytes(mtask_proc_method method) {
    mtask_proc_desc desc;
    mtask_proc *process;
    mtask_buf result = {NULL, 0, 0};
    mtask_outcome outcome;
    int code = -1;
    memset(&desc, 0, sizeof desc);
    desc.call = shout;
    desc.in = "hello";
    desc.in_size = 5;
    desc.method = method;
    desc.name = "shouter";
    NEED(mtask_proc_start_ex(&process, &desc) == MTASK_OK);
    NEED(strcmp(mtask_proc_name(process), "shouter") == 0 && mtask_proc_pid(process) > 0);
    NEED(mtask_proc_join(process, &outcome, LONG) == MTASK_OK);
    NEED(mtask_proc_result(process, &result) == MTASK_OK && holds(&result, "HELLO"));
    NEED(mtask_proc_exitcode(process, &code) == MTASK_OK && code == 0);
    NEED(mtask_proc_close(process) == MTASK_OK);
    mtask_buf_free(&result);
    desc.in_size = 0;
    NEED(mtask_proc_start_ex(&process, &desc) == MTASK_OK);
    NEED(mtask_proc_join(process, &outcome, LONG) == MTASK_FAILED);
    NEED(outcome.status == MTASK_NOT_FOUND);
    return mtask_proc_close(process) == MTASK_OK ? 0 : __LINE__;
}

static int use_fork(void) {
    mtask_proc *process;
    mtask_outcome outcome;
    int code = 0;
    NEED(mtask_proc_start(&process, divide, (void *)7) == MTASK_OK);
    NEED(mtask_proc_join(process, &outcome, LONG) == MTASK_OK);
    NEED((intptr_t)outcome.value == 14 && mtask_proc_close(process) == MTASK_OK);
    NEED(mtask_proc_start(&process, divide, NULL) == MTASK_OK);
    NEED(mtask_proc_join(process, &outcome, LONG) == MTASK_FAILED);
    NEED(outcome.status == MTASK_INVALID);
    NEED(strcmp(outcome.text, "100 cannot be divided by 0") == 0);
    NEED(mtask_proc_close(process) == MTASK_OK);
    NEED(mtask_proc_start(&process, crash, NULL) == MTASK_OK);
    NEED(mtask_proc_join(process, &outcome, LONG) == MTASK_FAILED);
    NEED(outcome.status == MTASK_CRASHED);
    NEED(mtask_proc_exitcode(process, &code) == MTASK_OK && code == -SIGKILL);
    NEED(!mtask_proc_is_alive(process) && mtask_proc_close(process) == MTASK_OK);
    return 0;
}

static int use_other_methods(void) {
#ifndef EMULATED
    int line = use_bytes(MTASK_PROC_SPAWN);
    if (line == 0)
        line = use_bytes(MTASK_PROC_FORKSERVER);
    NEED(line == 0 && mtask_forkserver_pid() > 0);
    return mtask_forkserver_stop() == MTASK_OK ? 0 : __LINE__;
#else
    return 0;
#endif
}

/* ---- commands ---- */

static int use_commands(void) {
    static const char *const cat[] = {"cat", NULL};
    static const char *const ends[] = {"printf $0; printf $1 >&2; exit 3", "out", "err", NULL};
    static const char *const nothing[] = {"/no/such/program", NULL};
    static const char *const sleeps[] = {"sleep", "60", NULL};
    mtask_cmd_opts options;
    mtask_cmd_result result;
    memset(&options, 0, sizeof options);
    options.input = "some input";
    options.input_size = 10;
    options.capture = true;
    NEED(mtask_cmd_run(cat, &options, &result) == MTASK_OK);
    NEED(result.code == 0 && holds(&result.out, "some input") && result.err.size == 0);
    mtask_cmd_result_free(&result);
    memset(&options, 0, sizeof options);
    options.capture = options.shell = options.check = true;
    NEED(mtask_cmd_run(ends, &options, &result) == MTASK_FAILED);
    NEED(result.code == 3 && holds(&result.out, "out") && holds(&result.err, "err"));
    mtask_cmd_result_free(&result);
#ifndef EMULATED
    NEED(mtask_cmd_run(nothing, NULL, NULL) == MTASK_NOT_FOUND);
#endif
    (void)nothing;
    memset(&options, 0, sizeof options);
    options.timeout = MOMENT;
    NEED(mtask_cmd_run(sleeps, &options, &result) == MTASK_TIMEOUT && result.code == -SIGKILL);
    mtask_cmd_result_free(&result);
    return 0;
}

static int use_started(void) {
    static const char *const cat[] = {"cat", NULL};
    mtask_cmd *command;
    mtask_cmd_opts options;
    mtask_cmd_result result;
    int code = 0;
    memset(&options, 0, sizeof options);
    options.in = options.out = MTASK_CMD_PIPE;
    NEED(mtask_cmd_start(&command, cat, &options) == MTASK_OK);
    NEED(mtask_cmd_poll(command, &code) == MTASK_TIMEOUT && mtask_cmd_pid(command) > 0);
    NEED(mtask_cmd_communicate(command, "text", 4, 0, &result, LONG) == MTASK_OK);
    NEED(result.code == 0 && holds(&result.out, "text"));
    mtask_cmd_result_free(&result);
    mtask_cmd_destroy(command);
    NEED(mtask_cmd_start(&command, cat, &options) == MTASK_OK);
    NEED(mtask_cmd_terminate(command) == MTASK_OK);
    NEED(mtask_cmd_wait(command, &code, LONG) == MTASK_OK && code == -SIGTERM);
    mtask_cmd_destroy(command);
    return 0;
}

/* ---- connections ---- */

enum { BIG = 100000 };

static mtask_conn *ours, *theirs;

/* Sends back what it gets, and a descriptor. */
static void *echo(void *arg) {
    mtask_buf message = {NULL, 0, 0};
    int fd = -1;
    mtask_status status = mtask_conn_recv(theirs, &message, LONG);
    if (status == MTASK_OK)
        status = mtask_conn_send(theirs, message.data, message.size, LONG);
    fd = open("/dev/null", O_RDWR);
    if (status == MTASK_OK)
        status = mtask_conn_send_fds(theirs, "fd", 2, &fd, 1, LONG);
    mtask_buf_free(&message);
    (void)close(fd);
    return status == MTASK_OK ? arg : mtask_fail(status, "echo");
}

static int use_pipe(void) {
    mtask_buf message = {NULL, 0, 0};
    mtask_proc *process;
    mtask_conn_case one;
    char *big = (char *)calloc(1, BIG);
    size_t count = 0;
    int fd = -1;
    NEED(big != NULL && mtask_pipe(&ours, &theirs, true) == MTASK_OK);
    NEED(mtask_proc_start(&process, echo, NULL) == MTASK_OK);
    big[BIG - 1] = 'x';
    NEED(mtask_conn_send(ours, big, BIG, LONG) == MTASK_OK);
    memset(&one, 0, sizeof one);
    one.conn = ours;
    NEED(mtask_conn_wait(&one, 1, LONG) == MTASK_OK && one.ready);
    NEED(mtask_conn_recv(ours, &message, LONG) == MTASK_OK && message.size == BIG);
    NEED(memcmp(message.data, big, BIG) == 0);
    NEED(mtask_conn_recv_fds(ours, &message, &fd, 1, &count, LONG) == MTASK_OK);
    NEED(count == 1 && write(fd, "x", 1) == 1 && close(fd) == 0);
    NEED(mtask_proc_join(process, NULL, LONG) == MTASK_OK);
    NEED(mtask_proc_close(process) == MTASK_OK && mtask_conn_close(theirs) == MTASK_OK);
    NEED(mtask_conn_recv(ours, &message, LONG) == MTASK_CLOSED);
    NEED(mtask_conn_close(ours) == MTASK_OK);
    mtask_buf_free(&message);
    free(big);
    return 0;
}

/* Stands for a digest: both sides only have to come to the same. */
static bool sum(const char *digest, const void *key, size_t key_size, const void *data, size_t size,
                unsigned char *mac, size_t *mac_size, void *ctx) {
    const unsigned char *parts[2];
    (void)ctx;
    parts[0] = (const unsigned char *)key;
    parts[1] = (const unsigned char *)data;
    if (strcmp(digest, "sha256") != 0)
        return false;
    memset(mac, 0, 32);
    for (size_t i = 0; i < key_size + size; i++) {
        unsigned char byte = i < key_size ? parts[0][i] : parts[1][i - key_size];
        mac[i % 32] = (unsigned char)(mac[i % 32] * 33u + byte);
    }
    *mac_size = 32;
    return true;
}

static char where[MTASK_ADDRESS_TEXT];
static mtask_conn_desc secret;

static void *be_client(void *arg) {
    mtask_conn *conn;
    mtask_status status = mtask_conn_connect(&conn, where, &secret, LONG);
    if (status == MTASK_OK)
        status = mtask_conn_send(conn, "hello", 5, LONG);
    if (status != MTASK_OK)
        return mtask_fail(status, "client: %s", mtask_status_name(status));
    (void)mtask_conn_close(conn);
    return arg;
}

static int use_listener(void) {
    mtask_conn_listener *listener;
    mtask_address address;
    mtask_conn *conn;
    mtask_proc *process;
    mtask_buf message = {NULL, 0, 0};
    memset(&secret, 0, sizeof secret);
    secret.key = "key";
    secret.key_size = 3;
    secret.hmac = sum;
    NEED(mtask_conn_listener_open(&listener, "127.0.0.1:0", &secret) == MTASK_OK);
    NEED(mtask_conn_listener_address(listener, &address) == MTASK_OK);
    (void)mtask_address_text(&address, where, sizeof where);
    NEED(mtask_proc_start(&process, be_client, NULL) == MTASK_OK);
    NEED(mtask_conn_listener_accept(listener, &conn, LONG) == MTASK_OK);
    NEED(mtask_conn_recv(conn, &message, LONG) == MTASK_OK && holds(&message, "hello"));
    NEED(mtask_proc_join(process, NULL, LONG) == MTASK_OK);
    NEED(mtask_proc_close(process) == MTASK_OK && mtask_conn_close(conn) == MTASK_OK);
    mtask_conn_listener_close(listener);
    mtask_buf_free(&message);
    return 0;
}

/* ---- shared memory ---- */

/* Whether the system has the locks between processes that it needs, and those for tasks of a loop. */
static bool has_shared(mtask_status status) {
    return status != MTASK_UNSUPPORTED;
}

static int use_memory(void) {
    mtask_shm made, seen;
    char name[MTASK_SHM_NAME];
    (void)snprintf(name, sizeof name, "config_proc-%ld", (long)getpid());
    NEED(mtask_shm_create(&made, name, 5000) == MTASK_OK && made.size == 5000);
    NEED(mtask_shm_attach(&seen, name) == MTASK_OK && seen.size == 5000 && seen.data != made.data);
    strcpy((char *)made.data, "shared");
    NEED(strcmp((char *)seen.data, "shared") == 0);
    NEED(mtask_shm_unlink(&seen) == MTASK_NOT_OWNER && mtask_shm_close(&seen) == MTASK_OK);
    NEED(mtask_shm_close(&made) == MTASK_OK);
    return mtask_shm_attach(&seen, name) == MTASK_NOT_FOUND ? 0 : __LINE__;
}

static mtask_array counters;

static void *count_up(void *arg) {
    for (int i = 0; i < 1000; i++) {
        if (mtask_array_lock(&counters, LONG) != MTASK_OK)
            return mtask_fail(MTASK_FAILED, "lock");
        ((int64_t *)mtask_array_data(&counters))[1]++;
        if (mtask_array_unlock(&counters) != MTASK_OK)
            return mtask_fail(MTASK_FAILED, "unlock");
    }
    return arg;
}

static int use_array(void) {
    mtask_proc *processes[2];
    int64_t value = 5;
    mtask_status status = mtask_array_create(&counters, NULL, 10, sizeof value);
    if (!has_shared(status))
        return 0;
    NEED(status == MTASK_OK && mtask_array_count(&counters) == 10);
    NEED(mtask_array_set(&counters, 1, &value) == MTASK_OK);
    for (int i = 0; i < 2; i++)
        NEED(mtask_proc_start(&processes[i], count_up, NULL) == MTASK_OK);
    for (int i = 0; i < 2; i++) {
        NEED(mtask_proc_join(processes[i], NULL, LONG) == MTASK_OK);
        NEED(mtask_proc_close(processes[i]) == MTASK_OK);
    }
    NEED(mtask_array_get(&counters, 1, &value) == MTASK_OK && value == 2005);
    return mtask_array_close(&counters) == MTASK_OK ? 0 : __LINE__;
}

static mtask_arena arena;

static void *release(void *semaphore) {
    return mtask_sem_release((mtask_sem *)semaphore, 1) == MTASK_OK ? semaphore : NULL;
}

static int use_arena(void) {
    void *piece = NULL;
    mtask_proc *process;
    mtask_outcome outcome;
    mtask_status status = mtask_arena_create(&arena, NULL, 100000);
    if (!has_shared(status))
        return 0;
    NEED(status == MTASK_OK && mtask_arena_alloc(&arena, sizeof(mtask_sem), &piece) == MTASK_OK);
    NEED(mtask_arena_at(&arena, mtask_arena_offset(&arena, piece)) == piece);
    status = mtask_sem_init((mtask_sem *)piece, 0, 0, MTASK_SHARED);
    if (has_shared(status)) {
        NEED(status == MTASK_OK && mtask_proc_start(&process, release, piece) == MTASK_OK);
        status = mtask_sem_acquire((mtask_sem *)piece, LONG);
        NEED(mtask_proc_join(process, &outcome, LONG) == MTASK_OK && outcome.value == piece);
        NEED(mtask_proc_close(process) == MTASK_OK);
    }
    NEED(status == MTASK_OK || !has_shared(status));
    NEED(mtask_arena_free(&arena, piece) == MTASK_OK);
    return mtask_arena_close(&arena) == MTASK_OK ? 0 : __LINE__;
}

/* ---- pools ---- */

static mtask_status count_down(mtask_buf *in, void *ctx) {
    int64_t *n = (int64_t *)ctx;
    if (*n == 0)
        return MTASK_DONE;
    (*n)--;
    return mtask_buf_append(in, n, sizeof *n);
}

static int use_tasks(mtask_procpool *pool) {
    mtask_future *future, *dead;
    mtask_outcome outcome;
    size_t size = 0;
    NEED(mtask_procpool_submit(pool, end_itself, NULL, 0, &dead) == MTASK_OK);
    NEED(mtask_procpool_submit(pool, shout, "quietly", 7, &future) == MTASK_OK);
    NEED(mtask_future_get(future, NULL, LONG) == MTASK_OK);
    NEED(memcmp(mtask_future_bytes(future, &size), "QUIETLY", 8) == 0 && size == 7);
    mtask_future_release(future);
    NEED(mtask_future_get(dead, &outcome, LONG) == MTASK_FAILED);
    NEED(outcome.status == MTASK_CRASHED);
    mtask_future_release(dead);
    return 0;
}

static int use_maps(mtask_procpool *pool) {
    mtask_procmap_desc map;
    mtask_procimap_desc desc;
    mtask_procimap *imap;
    mtask_procitem item;
    int64_t in[100], out[100], left = 20;
    memset(&map, 0, sizeof map);
    memset(&desc, 0, sizeof desc);
    for (int64_t i = 0; i < 100; i++)
        in[i] = i;
    map.fn = desc.fn = square;
    map.count = 100;
    map.in = in;
    map.out = out;
    map.in_size = map.out_size = sizeof in[0];
    NEED(mtask_procpool_map(pool, &map, NULL, LONG) == MTASK_OK);
    for (int64_t i = 0; i < 100; i++)
        NEED(out[i] == i * i);
    desc.input = count_down;
    desc.ctx = &left;
    NEED(mtask_procpool_imap(pool, &desc, &imap) == MTASK_OK);
    for (int64_t i = 19; i >= 0; i--) {
        NEED(mtask_procimap_next(imap, &item, LONG) == MTASK_OK && item.size == sizeof in[0]);
        memcpy(in, item.data, item.size);
        NEED(in[0] == i * i);
    }
    NEED(mtask_procimap_next(imap, &item, LONG) == MTASK_DONE);
    mtask_procimap_close(imap);
    return 0;
}

static int use_big_task(mtask_procpool *pool) {
    mtask_buf in = {NULL, 0, 0}, out = {NULL, 0, 0};
    NEED(mtask_buf_reserve(&in, BIG) == MTASK_OK);
    memset(in.data, 'a', BIG);
    NEED(mtask_procpool_call(pool, shout, in.data, BIG, &out, NULL, LONG) == MTASK_OK);
    NEED(out.size == BIG && out.data[0] == 'A' && out.data[BIG - 1] == 'A');
    mtask_buf_free(&in);
    mtask_buf_free(&out);
    return 0;
}

static int use_pool(mtask_proc_method method) {
    mtask_procpool_desc desc;
    mtask_procpool *pool;
    int line;
    memset(&desc, 0, sizeof desc);
    desc.workers = 2;
    desc.method = method;
    NEED(mtask_procpool_create(&pool, &desc) == MTASK_OK);
    line = use_tasks(pool);
    if (line == 0)
        line = use_maps(pool);
    if (line == 0)
        line = use_big_task(pool);
    NEED(mtask_procpool_close(pool) == MTASK_OK && mtask_procpool_join(pool, LONG) == MTASK_OK);
    NEED(mtask_procpool_get_stats(pool).crashed == 1 || line != 0);
    NEED(mtask_procpool_destroy(pool) == MTASK_OK);
    return line;
}

/* ---- all of it ---- */

/* The line that failed; 0: none. */
static int use_all(void) {
    static int (*const parts[])(void) = {use_fork,  use_other_methods, use_commands, use_started,
                                         use_pipe,  use_listener,      use_memory,   use_array,
                                         use_arena, NULL};
    int line = use_bytes(MTASK_PROC_FORK);
    for (int i = 0; line == 0 && parts[i] != NULL; i++)
        line = parts[i]();
    if (line == 0)
        line = use_pool(MTASK_PROC_FORK);
    return line;
}

static void *in_task(void *arg) {
    (void)arg;
    return (void *)(intptr_t)use_all();
}

USED_OR_NOT int work(void) {
    mtask_outcome outcome;
    int line = use_all();
    if (line == 0) {
        NEED(mtask_loop_run(in_task, NULL, &outcome) == MTASK_OK);
        line = (int)(intptr_t)outcome.value;
    }
    NEED(line != 0 || mtask_proc_join_all(LONG) == MTASK_OK);
    NEED(line != 0 || (waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD));
    return line;
}

USED_OR_NOT int tell(int line) {
    if (line != 0)
        fprintf(stderr, "use.h:%d: failed, errno %d\n", line, errno);
    return line != 0;
}
END

printf '#define MTASK_IMPLEMENTATION\n#include "mtask_proc.h"\n' >"$OUT/all.c"
printf '%s\n' '#include "use.h"' 'int main(int argc, char **argv) {' \
    '    mtask_proc_init(argc, argv);' '    return tell(work());' '}' >"$OUT/main.c"
cat "$OUT/all.c" "$OUT/main.c" >"$OUT/one.c"

WITH=

# ---- flags and options, in C and in C++ ----

for flags in "-Os -flto=auto -no-pie -fno-pie" "-O0 -static-pie -fPIE" \
    "-O0 -static -no-pie -fno-pie" "-O0 -DMTASK_DEBUG=1" "-O0 -DMTASK_FORCE_POSIX"; do
    # shellcheck disable=SC2086 # lists of words
    run "gcc $flags" gcc -std=c11 $WARN $flags "$OUT/one.c"
done
for flags in "-DMTASK_LOOP_POLL -DMTASK_PROCPOOL_INLINE=64 -DMTASK_PROCPOOL_SLOTS=4" \
    "-DMTASK_FORCE_POSIX -DMTASK_PROCPOOL_INLINE=4000"; do
    # shellcheck disable=SC2086
    run "clang $flags" clang -std=c11 $WARN -O0 $flags "$OUT/one.c"
done
for cxx in "g++ -std=c++11" "g++ -std=c++14" "clang++ -std=c++20"; do
    # shellcheck disable=SC2086
    run "$cxx" $cxx -x c++ $WARN -O0 "$OUT/one.c"
done

# ---- the headers in several files ----

printf '#define MTASK_PROC_IMPLEMENTATION\n#include "mtask_proc.h"\n' >"$OUT/proc.c"
printf '#define MTASK_IMPLEMENTATION\n#include "mtask_io.h"\n' >"$OUT/base.c"
for cc in "gcc -std=c11" "g++ -x c++ -std=c++17"; do
    # shellcheck disable=SC2086
    run "split implementation, $cc" $cc $WARN -O0 -D_GNU_SOURCE "$OUT/base.c" "$OUT/proc.c" \
        "$OUT/main.c"
done

# static_part NAME: a file that has all of it, for itself, and uses it in a function of this name.
static_part() {
    cat "$OUT/all.c"
    printf '%s\n' '#include "use.h"' "int $1(int argc, char **argv);" \
        "int $1(int argc, char **argv) {" '    mtask_proc_init(argc, argv);' \
        '    return tell(work());' '}'
}
static_part first >"$OUT/first.c"
static_part second >"$OUT/second.c"
printf '%s\n' 'int first(int, char **);' 'int second(int, char **);' \
    'int main(int argc, char **argv) {' '    return first(argc, argv) + second(argc, argv);' \
    '}' >"$OUT/both.c"
# shellcheck disable=SC2086
run "static in two files" gcc -std=c11 $WARN -O0 -DMTASK_STATIC "$OUT/first.c" "$OUT/second.c" \
    "$OUT/both.c"
{ cat "$OUT/all.c" && printf 'int main(void) {\n    return 0;\n}\n'; } >"$OUT/unused.c"
# shellcheck disable=SC2086
check "static, and not used" clang -std=c11 $WARN -O0 -DMTASK_STATIC -I. -pthread -c \
    -o "$OUT/unused.o" "$OUT/unused.c"

for no in MTASK_CORO_NO_LOOP MTASK_NO_THREADS; do
    refuse "with $no" "mtask_[a-z]*.h needs loops" gcc -std=c11 -D$no -I. -fsyntax-only "$OUT/main.c"
done

# ---- tasks in shared libraries ----

cat >"$OUT/task.c" <<'END'
#include "mtask_proc.h"

/* Not to be found by its name. */
static mtask_status double_it(const void *in, size_t size, mtask_buf *out) {
    int n = 2 * *(const int *)in;
    return size == sizeof n ? mtask_buf_append(out, &n, sizeof n) : MTASK_INVALID;
}

mtask_bytes_fn the_task(void);
mtask_bytes_fn the_task(void) {
    return double_it;
}
END

cat >"$OUT/user.c" <<'END'
/* Has other processes run the task of the library $TASK_LIBRARY. $TASK_ORDER says in which order it
   loads that, and calls mtask_proc_init: "load, init", "init, load", or "load" only. */
#include "use.h"
#include <dlfcn.h>

#ifdef LINKED
mtask_bytes_fn the_task(void);
#endif

static mtask_bytes_fn load(const char *path) {
#ifdef LINKED
    (void)path;
    return the_task();
#else
    mtask_bytes_fn (*get)(void) = NULL;
    void *library = dlopen(path, RTLD_NOW), *symbol;
    if (library == NULL || (symbol = dlsym(library, "the_task")) == NULL)
        return NULL;
    memcpy(&get, &symbol, sizeof get);
    return get();
#endif
}

/* What comes of it in a process of its own. */
static mtask_status in_process(mtask_bytes_fn fn, mtask_proc_method method) {
    mtask_proc_desc desc;
    mtask_proc *process = NULL;
    mtask_outcome outcome;
    mtask_buf result = {NULL, 0, 0};
    int n = 21;
    mtask_status status;
    memset(&desc, 0, sizeof desc);
    desc.call = fn;
    desc.in = &n;
    desc.in_size = sizeof n;
    desc.method = method;
    status = mtask_proc_start_ex(&process, &desc);
    if (status != MTASK_OK)
        return status;
    status = mtask_proc_join(process, &outcome, LONG);
    if (status == MTASK_FAILED)
        status = outcome.status;
    if (status == MTASK_OK)
        status = mtask_proc_result(process, &result);
    if (status == MTASK_OK)
        status = result.size == sizeof n && *(int *)(void *)result.data == 42 ? MTASK_OK
                                                                               : MTASK_INVALID;
    mtask_buf_free(&result);
    (void)mtask_proc_close(process);
    return status;
}

static mtask_status ask_pool(mtask_procpool *pool, mtask_bytes_fn fn) {
    mtask_outcome outcome;
    mtask_buf result = {NULL, 0, 0};
    int n = 21;
    mtask_status status = mtask_procpool_call(pool, fn, &n, sizeof n, &result, &outcome, LONG);
    if (status == MTASK_FAILED)
        status = outcome.status;
    if (status == MTASK_OK)
        status = result.size == sizeof n && *(int *)(void *)result.data == 42 ? MTASK_OK
                                                                               : MTASK_INVALID;
    mtask_buf_free(&result);
    return status;
}

/* The same with a pool, which goes on to work. */
static mtask_status in_pool(mtask_bytes_fn fn, mtask_proc_method method) {
    mtask_procpool_desc desc;
    mtask_procpool *pool;
    mtask_status status;
    int64_t n = 3;
    memset(&desc, 0, sizeof desc);
    desc.workers = 1;
    desc.method = method;
    status = mtask_procpool_create(&pool, &desc);
    if (status != MTASK_OK)
        return status;
    status = ask_pool(pool, fn);
    if (mtask_procpool_call(pool, square, &n, sizeof n, NULL, NULL, LONG) != MTASK_OK)
        status = MTASK_BROKEN;
    if (mtask_procpool_destroy(pool) != MTASK_OK)
        status = MTASK_BROKEN;
    return status;
}

/* How both end; or says that they do not end alike. */
static mtask_status in_both(mtask_bytes_fn fn, mtask_proc_method method) {
    mtask_status one = in_process(fn, method), many = in_pool(fn, method);
    if (one != many)
        fprintf(stderr, "method %d: %s, in a pool %s\n", (int)method, mtask_status_name(one),
                mtask_status_name(many));
    return one == many ? one : MTASK_BROKEN;
}

int main(int argc, char **argv) {
    const char *order = getenv("TASK_ORDER"), *path = getenv("TASK_LIBRARY");
    mtask_status expected = MTASK_OK;
    mtask_bytes_fn fn = NULL;
    if (strncmp(order, "load", 4) == 0)
        fn = load(path);
    if (strstr(order, "init") != NULL)
        mtask_proc_init(argc, argv);
    else
        expected = MTASK_UNSUPPORTED;
    if (fn == NULL) {
        fn = load(path);
        expected = MTASK_NOT_FOUND;
    }
    NEED(fn != NULL);
    NEED(tell(in_both(fn, MTASK_PROC_FORK) == MTASK_OK ? 0 : __LINE__) == 0);
    NEED(in_both(fn, MTASK_PROC_SPAWN) == expected);
    NEED(in_both(fn, MTASK_PROC_FORKSERVER) == expected);
    (void)work;
    return 0;
}
END

# What the library needs of mtask is the program's.
CC="timeout -k 5 100 gcc -std=c11 $WARN -O0 -D_GNU_SOURCE -DMTASK_API=extern -pthread -I. -I$OUT"

# order ORDER PROGRAM: runs it with the library of which user.c tells.
order() {
    echo "order: $1"
    TASK_LIBRARY=$OUT/task.so TASK_ORDER=$1 timeout -k 5 60 "$2"
}

# A library that is loaded later, and one that was linked.
task_in_library() {
    $CC -fPIC -shared -o "$OUT/task.so" "$OUT/task.c" &&
        $CC -c -o "$OUT/all.o" "$OUT/all.c" &&
        $CC -rdynamic -o "$OUT/user" "$OUT/user.c" "$OUT/all.o" -ldl &&
        $CC -DLINKED -o "$OUT/linked" "$OUT/user.c" "$OUT/all.o" "$OUT/task.so" -ldl &&
        order "load, init" "$OUT/linked" &&
        order "load, init" "$OUT/user" &&
        order "init, load" "$OUT/user" &&
        order "load" "$OUT/user"
}
check "tasks in libraries" task_in_library

# The implementation in a library, as a whole.
proc_in_library() {
    $CC -fPIC -shared -o "$OUT/libproc.so" "$OUT/all.c" &&
        $CC -o "$OUT/in_library" "$OUT/main.c" "$OUT/libproc.so" &&
        timeout -k 5 60 "$OUT/in_library"
}
check "implementation in a library" proc_in_library

# ---- another C library, other CPUs ----

run "musl" musl-gcc -std=c11 -static -O0 -Wall -Wextra "$OUT/one.c"
for cpu in "aarch64 aarch64-linux-gnu-gcc" "i386 i686-linux-gnu-gcc" "arm arm-linux-gnueabihf-gcc" \
    "riscv64 riscv64-linux-gnu-gcc"; do
    WITH="timeout -k 5 60 qemu-${cpu% *}"
    run "${cpu% *}" "${cpu#* }" -std=c11 -static -O0 -Wall -Wextra -DEMULATED "$OUT/one.c"
done

# ---- under Valgrind ----

# in_valgrind PROGRAM: no error, no leak, and no descriptor is open at the end but those that it began
# with, and those that are kept for later. Children that fork made are looked at, too.
in_valgrind() {
    local log=$1.valgrind status
    timeout -k 5 100 valgrind --error-exitcode=9 --leak-check=full --track-fds=yes --log-file="$log" \
        --trace-children=no --child-silent-after-fork=yes \
        --errors-for-leak-kinds=definite,indirect "$1" && awk '
        / Open / { open++ }
        /<inherited from parent>|mtask__bell_take|mtask__proc_life/ { kept++ }
        / FILE DESCRIPTORS: / { told = 1 }
        END { exit !told || open > kept }' "$log"
    status=$?
    [ $status = 0 ] || cat "$log"
    return $status
}
if command -v valgrind >/dev/null; then
    WITH=in_valgrind
    run "valgrind" gcc -std=c11 -g -O0 -DEMULATED "$OUT/one.c"
fi
collect

finish
