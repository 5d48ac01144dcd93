#!/usr/bin/env bash
# config_io.sh - mtask_io.h in the programs that it may meet: C and C++, with each option, implemented
# apart from the others, static in two files, with poll instead of epoll, with another C library, on
# other CPUs (in an emulator), and under Valgrind, which looks for leaks of memory and of
# descriptors.
# shellcheck source=tests/lib.sh
. "$(dirname "$0")/lib.sh"

# What the programs below have in common: a bit of everything.
cat >"$OUT/use.h" <<'END'
#include "mtask_io.h"
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

/* Descriptors, as such and several at once; in a task and in a thread. */
static int use_descriptors(void) {
    int ends[2], plain[2];
    char byte = 0;
    size_t count = 0;
    mtask_io_case cases[2];
    NEED(mtask_io_pipe(ends) == MTASK_OK && pipe(plain) == 0);
    NEED(mtask_io_read(ends[0], &byte, 1, &count, MTASK_MS(1)) == MTASK_TIMEOUT && count == 0);
    NEED(mtask_io_write(ends[1], "ab", 2, NULL, MTASK_FOREVER) == MTASK_OK);
    cases[0].fd = plain[0];
    cases[1].fd = ends[0];
    cases[0].events = cases[1].events = MTASK_IO_READ;
    NEED(mtask_io_select(cases, 2, MTASK_FOREVER) == MTASK_OK);
    NEED(cases[0].ready == 0 && cases[1].ready == MTASK_IO_READ);
    NEED(mtask_io_read(ends[0], &byte, 1, &count, MTASK_FOREVER) == MTASK_OK && byte == 'a');
    NEED(mtask_io_wait(plain[0], MTASK_IO_READ, MTASK_MS(1)) == MTASK_TIMEOUT);
    NEED(mtask_io_close(ends[1]) == MTASK_OK);
    NEED(mtask_io_read(ends[0], &byte, 1, NULL, MTASK_FOREVER) == MTASK_OK && byte == 'b');
    NEED(mtask_io_read(ends[0], &byte, 1, NULL, MTASK_FOREVER) == MTASK_CLOSED);
    NEED(mtask_io_close(ends[0]) == MTASK_OK && close(plain[0]) == 0);
    NEED(mtask_io_write(plain[1], "c", 1, NULL, MTASK_FOREVER) == MTASK_BROKEN && errno == EPIPE);
    return close(plain[1]) == 0 ? 0 : __LINE__;
}

static int use_datagrams(void) {
    int sender, receiver;
    mtask_address here, from;
    char text[MTASK_ADDRESS_TEXT];
    char bytes[8];
    size_t count;
    NEED(mtask_udp_open(&receiver, "127.0.0.1:0", NULL, MTASK_FOREVER) == MTASK_OK);
    NEED(mtask_io_local(receiver, &here) == MTASK_OK && mtask_address_port(&here) != 0);
    NEED(mtask_udp_open(&sender, NULL, mtask_address_text(&here, text, sizeof text),
                        MTASK_FOREVER) == MTASK_OK);
    NEED(mtask_io_sendto(sender, "hello", 5, NULL, MTASK_FOREVER) == MTASK_OK);
    NEED(mtask_io_recvfrom(receiver, bytes, 8, &count, &from, MTASK_FOREVER) == MTASK_OK);
    NEED(count == 5 && memcmp(bytes, "hello", 5) == 0 && mtask_address_port(&from) != 0);
    NEED(mtask_io_close(sender) == MTASK_OK && mtask_io_close(receiver) == MTASK_OK);
    return 0;
}

static void *twice(void *arg) {
    *(int *)arg *= 2;
    return arg;
}

static int use_threads_and_files(void) {
    char path[] = "/tmp/mtask-io-XXXXXX";
    mtask_address addresses[4];
    char *data;
    size_t size = 0;
    int number = 21, fd = mkstemp(path);
    NEED(fd >= 0 && close(fd) == 0);
    NEED(mtask_offload(twice, &number, NULL) == MTASK_OK && number == 42);
    NEED(mtask_offload_for(twice, &number, sizeof number, NULL, NULL, MTASK_FOREVER) == MTASK_OK);
    NEED(number == 84);
    NEED(mtask_resolve("[::1]:80", addresses, 4, &size, MTASK_FOREVER) == MTASK_OK && size == 1);
    NEED(mtask_file_save(path, "some text", 9) == MTASK_OK);
    NEED(mtask_file_load(path, 100, &data, &size) == MTASK_OK);
    NEED(size == 9 && strcmp(data, "some text") == 0);
    mtask_file_free(data);
    return unlink(path) == 0 ? 0 : __LINE__;
}

static int use_signals_and_children(void) {
    static const int numbers[] = {SIGUSR1, SIGUSR2};
    mtask_signals *signals;
    int number = 0, status = 0;
    pid_t child;
    NEED(mtask_signals_create(&signals, numbers, 2) == MTASK_OK);
    NEED(mtask_signals_wait(signals, &number, MTASK_NOWAIT) == MTASK_TIMEOUT);
    NEED(raise(SIGUSR2) == 0);
    NEED(mtask_signals_wait(signals, &number, MTASK_FOREVER) == MTASK_OK && number == SIGUSR2);
    mtask_signals_destroy(signals);
    child = fork();
    if (child == 0) {
        (void)execl("/bin/sh", "sh", "-c", "exit 7", (char *)NULL);
        _exit(1);
    }
    NEED(child > 0 && mtask_child_wait(child, &status, MTASK_FOREVER) == MTASK_OK);
    return WIFEXITED(status) && WEXITSTATUS(status) == 7 ? 0 : __LINE__;
}

/* A server that answers each line, and a client. */
static void greet(mtask_stream *stream, void *ctx) {
    char *line;
    (void)ctx;
    while (mtask_stream_read_line(stream, &line, NULL, MTASK_SEC(60)) == MTASK_OK)
        if (mtask_stream_printf(stream, MTASK_SEC(60), "hello %s\n", line) != MTASK_OK)
            break;
}

static int use_server_at(const char *address, unsigned loops) {
    mtask_serve_desc desc;
    mtask_server *server;
    mtask_address where;
    mtask_stream *stream;
    char text[MTASK_ADDRESS_TEXT];
    char *line;
    memset(&desc, 0, sizeof desc);
    desc.loops = loops;
    NEED(mtask_server_start(&server, address, greet, &desc) == MTASK_OK);
    NEED(mtask_server_address(server, &where) == MTASK_OK);
    (void)mtask_address_text(&where, text, sizeof text);
    NEED(mtask_stream_connect(&stream, text, NULL, MTASK_FOREVER) == MTASK_OK);
    NEED(mtask_stream_write(stream, "you\r\nworld", 10, MTASK_FOREVER) == MTASK_OK);
    NEED(mtask_stream_shutdown(stream, MTASK_FOREVER) == MTASK_OK);
    NEED(mtask_stream_read_line(stream, &line, NULL, MTASK_FOREVER) == MTASK_OK);
    NEED(strcmp(line, "hello you") == 0);
    NEED(mtask_stream_read_line(stream, &line, NULL, MTASK_FOREVER) == MTASK_OK);
    NEED(strcmp(line, "hello world") == 0);
    NEED(mtask_stream_read_line(stream, &line, NULL, MTASK_FOREVER) == MTASK_CLOSED);
    mtask_stream_destroy(stream);
    NEED(mtask_server_get_stats(server).accepted == 1);
    return mtask_server_destroy(server) == MTASK_OK ? 0 : __LINE__;
}

/* The line that failed; 0: none. */
static int use_all(unsigned loops) {
    int line = use_descriptors();
    if (line == 0)
        line = use_datagrams();
    if (line == 0)
        line = use_threads_and_files();
    if (line == 0)
        line = use_signals_and_children();
    if (line == 0)
        line = use_server_at("127.0.0.1:0", loops);
    return line;
}

static void *in_task(void *arg) {
    (void)arg;
    return (void *)(long)use_all(0);
}

USED_OR_NOT int work(void) {
    mtask_outcome outcome;
    NEED(use_all(2) == 0);
    NEED(mtask_loop_run(in_task, NULL, &outcome) == MTASK_OK);
    return (int)(long)outcome.value;
}

USED_OR_NOT int tell(int line) {
    if (line != 0)
        fprintf(stderr, "use.h:%d: failed, errno %d\n", line, errno);
    return line != 0;
}
END

printf '#define MTASK_IMPLEMENTATION\n#include "mtask_io.h"\n' >"$OUT/all.c"
printf '#include "use.h"\nint main(void) {\n    return tell(work());\n}\n' >"$OUT/main.c"
cat "$OUT/all.c" "$OUT/main.c" >"$OUT/one.c"

WITH=

# ---- flags and options, in C and in C++ ----

for flags in "-O1 -flto=auto" "-O0 -DMTASK_DEBUG=1" "-O0 -DMTASK_FORCE_POSIX"; do
    # shellcheck disable=SC2086 # lists of words
    run "gcc $flags" gcc -std=c11 $WARN $flags "$OUT/one.c"
done
for flags in "-O0 -DMTASK_LOOP_POLL" \
    "-O0 -DMTASK_STREAM_BUFFER=64 -DMTASK_STREAM_LIMIT=128 -DMTASK_OFFLOAD_THREADS=1"; do
    # shellcheck disable=SC2086
    run "clang $flags" clang -std=c11 $WARN $flags "$OUT/one.c"
done
for cxx in "g++ -std=c++11" "clang++ -std=c++20"; do
    # shellcheck disable=SC2086
    run "$cxx" $cxx -x c++ $WARN -O0 "$OUT/one.c"
done

# ---- the headers in several files ----

printf '#define MTASK_IO_IMPLEMENTATION\n#include "mtask_io.h"\n' >"$OUT/io.c"
printf '#define MTASK_IMPLEMENTATION\n#include "mtask.h"\n#include "mtask_pool.h"\n' >"$OUT/base.c"
for cc in "gcc -std=c11" "g++ -x c++ -std=c++17"; do
    # shellcheck disable=SC2086
    run "split implementation, $cc" $cc $WARN -O0 -D_GNU_SOURCE "$OUT/base.c" "$OUT/io.c" "$OUT/main.c"
done

# static_part NAME: a file that has all of it, for itself, and uses it in a function of this name.
static_part() {
    cat "$OUT/all.c"
    printf '#include "use.h"\nint %s(void);\nint %s(void) {\n    return tell(work());\n}\n' "$1" "$1"
}
static_part first >"$OUT/first.c"
static_part second >"$OUT/second.c"
printf '%s\n' 'int first(void);' 'int second(void);' 'int main(void) {' \
    '    return first() + second() + first();' '}' >"$OUT/both.c"
# shellcheck disable=SC2086
run "static in two files" gcc -std=c11 $WARN -O0 -DMTASK_STATIC "$OUT/first.c" \
    "$OUT/second.c" "$OUT/both.c"
{ cat "$OUT/all.c" && printf 'int main(void) {\n    return 0;\n}\n'; } >"$OUT/unused.c"
# shellcheck disable=SC2086
run "static, and not used" clang -std=c11 $WARN -O0 -DMTASK_STATIC "$OUT/unused.c"

for no in MTASK_CORO_NO_LOOP MTASK_NO_THREADS; do
    refuse "with $no" "mtask_io.h needs loops" gcc -std=c11 -D$no -I. -fsyntax-only "$OUT/main.c"
done

# ---- another C library, other CPUs ----

run "musl" musl-gcc -std=c11 -static -O0 -Wall -Wextra "$OUT/one.c"
for cpu in "aarch64 aarch64-linux-gnu-gcc" "i386 i686-linux-gnu-gcc" "arm arm-linux-gnueabihf-gcc" \
    "riscv64 riscv64-linux-gnu-gcc"; do
    WITH="timeout -k 5 60 qemu-${cpu% *}"
    run "${cpu% *}" "${cpu#* }" -std=c11 -static -O0 -Wall -Wextra "$OUT/one.c"
done

# ---- under Valgrind ----

# in_valgrind PROGRAM: no error, no leak, and no descriptor is open at the end but those that it began
# with, and the pipes that are kept for threads that wait.
in_valgrind() {
    local log=$1.valgrind status
    timeout -k 5 100 valgrind --error-exitcode=9 --leak-check=full --track-fds=yes --log-file="$log" \
        --errors-for-leak-kinds=definite,indirect "$1" && awk '
        / Open / { open++ }
        /<inherited from parent>|mtask__bell_take/ { kept++ }
        / FILE DESCRIPTORS: / { told = 1 }
        END { exit !told || open > kept }' "$log"
    status=$?
    [ $status = 0 ] || cat "$log"
    return $status
}
if command -v valgrind >/dev/null; then
    WITH=in_valgrind
    run "valgrind" gcc -std=c11 -g -O0 "$OUT/one.c"
fi
collect

finish
