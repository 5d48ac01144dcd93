/* mtask_io.h 0.6.0 - sockets, pipes, streams and servers for tasks and threads

   What asyncio's streams, servers and signals and gevent's sockets do, in C: straight-line code, one
   task for each connection, on the loops of mtask_coro.h. A call that cannot go on parks its task;
   the same call outside of a loop blocks its thread.

   USE
     Copy this file, mtask_coro.h, mtask_pool.h, mtask_queue.h and mtask.h. In ONE .c (or .cpp) file,
     before any other include:

         #define MTASK_IMPLEMENTATION
         #include "mtask_io.h"

     and in the others just `#include "mtask_io.h"`. Compile with -pthread. It needs Linux, or a POSIX
     system with poll and sockets.

   EXAMPLE (cc -O2 -pthread example.c)

         #define MTASK_IMPLEMENTATION
         #include "mtask_io.h"
         #include <stdio.h>

         static void greet(mtask_stream *stream, void *ctx) { // one task for each connection
             char *line;
             (void)ctx;
             while (mtask_stream_read_line(stream, &line, NULL, MTASK_SEC(60)) == MTASK_OK)
                 if (mtask_stream_printf(stream, MTASK_SEC(10), "hello %s\n", line) != MTASK_OK)
                     break;
         } // what is left is sent, and the connection closed

         static void *visit(void *address) { // a client
             mtask_stream *stream;
             char *line;
             if (mtask_stream_connect(&stream, (char *)address, NULL, MTASK_SEC(5)) != MTASK_OK)
                 return NULL;
             if (mtask_stream_printf(stream, MTASK_SEC(5), "world\n") == MTASK_OK &&
                 mtask_stream_read_line(stream, &line, NULL, MTASK_SEC(5)) == MTASK_OK)
                 puts(line);
             mtask_stream_destroy(stream);
             return NULL;
         }

         int main(void) {
             mtask_server *server;
             mtask_address address;
             char text[MTASK_ADDRESS_TEXT];
             if (mtask_server_start(&server, "localhost:0", greet, NULL) != MTASK_OK)
                 return 1;
             (void)mtask_server_address(server, &address);
             (void)visit(mtask_address_text(&address, text, sizeof text)); // as a thread
             (void)mtask_loop_run(visit, text, NULL);                      // as a task
             return mtask_server_destroy(server) != MTASK_OK;
         }

   WHAT HOLDS FOR ALL CALLS
     - Each tries first, and waits only if the system says that it would have to. Timeouts are
       relative, in nanoseconds; MTASK_NOWAIT never waits, MTASK_FOREVER does without end. A task that
       finds input again and again lets the others run now and then.
     - Waits of tasks end by cancellation and limits (mtask_future_cancel, mtask_with_timeout, task
       groups) like all others of mtask: MTASK_CANCELED.
     - MTASK_CLOSED: the end of the input. MTASK_BROKEN: the connection was reset, nobody reads what
       is written (errno is ECONNRESET, EPIPE or the like), or the descriptor was closed by
       mtask_io_close meanwhile (errno is EBADF). MTASK_SYSTEM: the system refuses; errno says why.
       MTASK_DEADLOCK: it would have to wait on a loop's own stack (in a function that was posted).
     - No SIGPIPE is ever raised. A call that a signal interrupts goes on.
     - Descriptors that mtask makes are close-on-exec and non-blocking.
     - A thread that waits outside of a loop uses a pipe, by which a close reaches it; up to 8 of these
       are kept for the next ones.

   DESCRIPTORS
     Those that mtask made, or that were handed over by mtask_io_adopt, are its own: they are registered
     with the system once, and must be closed by mtask_io_close. All others may be used as well, and
     closed as one likes: before each wait they are registered anew, one more system call. Their mode is
     left as it is; one that blocks is read and written only when it is ready, terminals byte by byte.

   CONTENTS: grep for the tag.
     >>io  >>address  >>tcp  >>stream  >>offload  >>file  >>signal  >>child  >>serve
     >>io-siblings
     implementation: >>io-contract  >>io-state  >>io-record  >>io-wait  >>io-thread  >>io-try
     >>stream-out  >>stream-in  and the same again
     platforms: >>linux-io  >>posix-io

   OPTIONS (define them before the include, the same in every file)
     MTASK_STREAM_BUFFER  bytes that a stream reads at a time, and holds back at most before it sends
                          (default: 16384)
     MTASK_STREAM_LIMIT   longest line, or other piece of input that is waited for as a whole, by
                          default (default: 65536)
     MTASK_OFFLOAD_THREADS  threads for functions that block (default: 16)
     and those of the headers on which it stands; with MTASK_LOOP_POLL it waits by poll instead of
     epoll. MTASK_IO_IMPLEMENTATION instead of MTASK_IMPLEMENTATION implements mtask_io.h and
     mtask_coro.h, in a file other than those that implement the others.

   LICENCE: MIT or public domain, at your choice; see the end of mtask.h. */

#if defined(MTASK_IO_IMPLEMENTATION) && !defined(MTASK_CORO_IMPLEMENTATION)
# define MTASK_CORO_IMPLEMENTATION /* the two share what is private */
#endif

#include "mtask_coro.h"
#include "mtask_pool.h"

#ifndef MTASK_IO_H
# define MTASK_IO_H

# ifdef MTASK_CORO_NO_LOOP
#  error                                                                                           \
      "mtask_io.h needs loops, and threads: do without MTASK_CORO_NO_LOOP, MTASK_NO_THREADS and MTASK_PLATFORM_CUSTOM, or without this header."
# endif

# include <netinet/in.h>
# include <sys/socket.h>
# include <sys/types.h>
# include <sys/uio.h>
# include <sys/un.h>

# ifndef MTASK_STREAM_BUFFER
#  define MTASK_STREAM_BUFFER 16384
# endif
# ifndef MTASK_STREAM_LIMIT
#  define MTASK_STREAM_LIMIT 65536
# endif
# ifndef MTASK_OFFLOAD_THREADS
#  define MTASK_OFFLOAD_THREADS 16
# endif

# ifdef __cplusplus
extern "C" {
# endif

/* ---- >>io: descriptors ---- */

# define MTASK_IO_READ  1u /* input, its end, or an error is there */
# define MTASK_IO_WRITE 2u /* there is room for output, or an error */

/* Waits until `fd` is ready for one of `events`, MTASK_IO_READ | MTASK_IO_WRITE, for at most
   `timeout` nanoseconds. Errors and hang-ups make it ready for both. Files are always ready.
   MTASK_OK, MTASK_TIMEOUT, MTASK_CANCELED, MTASK_BROKEN (closed meanwhile), MTASK_INVALID (no
   event, negative), MTASK_NOMEM, MTASK_DEADLOCK, MTASK_SYSTEM (errno is EBADF: not a descriptor).
   Any task or thread, several at once. */
MTASK_API mtask_status mtask_io_wait(int fd, unsigned events, int64_t timeout);

/* One of several descriptors to wait for. */
typedef struct mtask_io_case {
    int fd;          /* negative: none */
    unsigned events; /* wanted */
    unsigned ready;  /* becomes those of them that have come */
} mtask_io_case;

/* Waits until at least one of `count` descriptors is ready, as mtask_io_wait; then `ready` says
   which; else it is 0 in all. At most 1024; with none it just waits: MTASK_TIMEOUT. */
MTASK_API mtask_status mtask_io_select(mtask_io_case *cases, size_t count, int64_t timeout);

/* Reads what there is, `capacity` bytes at most, waiting for the first; `count` (here and below:
   NULL allowed) receives how many. MTASK_OK; MTASK_CLOSED: the end; others as above. A capacity of
   0 reads nothing. */
MTASK_API mtask_status mtask_io_read(int fd, void *buffer, size_t capacity, size_t *count,
                                     int64_t timeout);

/* Writes all `size` bytes; `count` receives how many were written, also if it ends early. MTASK_OK;
   others as above. Two writers at once may mix their bytes. */
MTASK_API mtask_status mtask_io_write(int fd, const void *data, size_t size, size_t *count,
                                      int64_t timeout);

/* The same from and to several pieces of memory, at most 1024. */
MTASK_API mtask_status mtask_io_readv(int fd, const struct iovec *parts, int n, size_t *count,
                                      int64_t timeout);
MTASK_API mtask_status mtask_io_writev(int fd, const struct iovec *parts, int n, size_t *count,
                                       int64_t timeout);

/* Sends `size` bytes of the file `file`, from `offset` on, through `fd`, without a copy where the
   system can (else through a buffer); the file's own position stays. `count` receives how many were
   sent. MTASK_OK; MTASK_CLOSED: the file ended before; others as above. Reading the file itself
   may block the loop for as long as the disk takes. */
MTASK_API mtask_status mtask_io_sendfile(int fd, int file, int64_t offset, size_t size,
                                         size_t *count, int64_t timeout);

/* Closes it: whoever waits for it, in any task or thread, is told MTASK_BROKEN. It must not be in
   the midst of a call of another thread that does not wait, as with close itself. MTASK_OK;
   MTASK_SYSTEM: the system told of an error, or of EBADF; the descriptor is gone in any case. Does
   not wait. */
MTASK_API mtask_status mtask_io_close(int fd);

/* Makes a descriptor, for which nobody waits, mtask's own, see above; it becomes non-blocking, for
   all who share it. MTASK_OK, MTASK_NOMEM, MTASK_SYSTEM. */
MTASK_API mtask_status mtask_io_adopt(int fd);

/* A pipe of two descriptors of mtask's own: what is written to ends[1] is read from ends[0].
   MTASK_OK, MTASK_NOMEM, MTASK_SYSTEM. */
MTASK_API mtask_status mtask_io_pipe(int ends[2]);

/* Two stream sockets of mtask's own that are connected to each other. As mtask_io_pipe. */
MTASK_API mtask_status mtask_io_pair(int ends[2]);

/* ---- >>address: where a socket is ---- */

/* An address of IPv4, IPv6 or a Unix socket. Zero is none. */
typedef struct mtask_address {
    socklen_t size; /* of what is used of `as`, in bytes */
    union {
        struct sockaddr any;
        struct sockaddr_in ip4;
        struct sockaddr_in6 ip6;
        struct sockaddr_un path;
    } as;
} mtask_address;

# define MTASK_ADDRESS_TEXT 128 /* bytes; enough for the text of any address */

/* Reads "127.0.0.1:80", "[::1]:80", "*:80" or ":80" (all addresses of this machine), or
   "unix:/path" ("unix:@name" in Linux's abstract space). MTASK_OK; MTASK_NOT_FOUND: it needs a name
   to be looked up (mtask_resolve does that); MTASK_INVALID: not an address. Does not wait. */
MTASK_API mtask_status mtask_address_parse(mtask_address *address, const char *text);

/* Writes that, at most `size` bytes with the closing zero; always returns `text`. */
MTASK_API char *mtask_address_text(const mtask_address *address, char *text, size_t size);

/* The port; 0 if it has none. */
MTASK_API unsigned mtask_address_port(const mtask_address *address);

/* Looks up "name:port" or "name:service", and all that mtask_address_parse knows; in a thread, by
   getaddrinfo. Writes at most `capacity` (at most 16) addresses, in the order in which they are to
   be tried; `count` receives how many. MTASK_OK; MTASK_NOT_FOUND: there is none of that name, or
   the service is not known; MTASK_TIMEOUT, MTASK_CANCELED: nobody waits for the answer any more;
   MTASK_INVALID, MTASK_NOMEM, MTASK_SYSTEM (errno is EAGAIN: the name server does not answer). */
MTASK_API mtask_status mtask_resolve(const char *text, mtask_address *addresses, size_t capacity,
                                     size_t *count, int64_t timeout);

/* The address of a socket, and of its other end. MTASK_OK, MTASK_SYSTEM. */
MTASK_API mtask_status mtask_io_local(int fd, mtask_address *address);
MTASK_API mtask_status mtask_io_peer(int fd, mtask_address *address);

/* ---- >>tcp: stream sockets, and datagrams ---- */

/* Connects to "host:port" or "unix:/path"; *fd receives a socket, without Nagle's delay; close it
   by mtask_io_close. A host of several addresses: they are tried in turn, a new one after 250 ms or
   when the last has failed, and the first to answer is taken (RFC 8305, "happy eyeballs").
   MTASK_OK; MTASK_SYSTEM: none answered; errno tells of the last (ECONNREFUSED ...); those of
   mtask_resolve and mtask_io_wait. After an error *fd is -1. */
MTASK_API mtask_status mtask_tcp_connect(int *fd, const char *address, int64_t timeout);

/* How to listen. Zero, or NULL, means the default. */
typedef struct mtask_listen_desc {
    int backlog;     /* connections that wait to be accepted (default: SOMAXCONN) */
    bool share_port; /* several sockets on one port share what comes (SO_REUSEPORT) */
    bool ip6_only;   /* "*:80" and "[::]:80" mean IPv6 alone (default: both, where there are) */
} mtask_listen_desc;

/* Listens on "host:port" or "unix:/path"; port 0 is one that is free: see mtask_io_local. Of a
   name's several addresses the first of IPv4 is taken. A Unix socket's file of which nobody listens
   any more is replaced. *fd is closed by mtask_io_close. MTASK_OK, MTASK_SYSTEM (EADDRINUSE ...),
   those of mtask_resolve, which may wait. After an error *fd is -1. */
MTASK_API mtask_status mtask_tcp_listen(int *fd, const char *address,
                                        const mtask_listen_desc *desc);

/* Accepts a connection; *fd is closed by mtask_io_close, *peer (NULL allowed) is where it comes
   from. A connection that is broken before it is accepted is passed over. MTASK_OK; MTASK_SYSTEM
   (EMFILE, ENFILE, ENOBUFS, ENOMEM: it still waits to be accepted); those of mtask_io_wait. After
   an error *fd is -1. */
MTASK_API mtask_status mtask_tcp_accept(int listener, int *fd, mtask_address *peer,
                                        int64_t timeout);

/* Connects a socket of the caller's. MTASK_OK, MTASK_SYSTEM (ECONNREFUSED ...), those of
   mtask_io_wait. */
MTASK_API mtask_status mtask_io_connect(int fd, const mtask_address *to, int64_t timeout);

/* A datagram socket: bound to `local` (NULL: to any free port), connected to `remote` (NULL: to
   none, or to what mtask_io_sendto says each time). One of the two must be given. As
   mtask_tcp_connect. */
MTASK_API mtask_status mtask_udp_open(int *fd, const char *local, const char *remote,
                                      int64_t timeout);

/* Receives one datagram, waiting for it; *from (NULL allowed) is where it comes from. MTASK_OK
   (also if it is empty); MTASK_OVERFLOW: it was longer than `capacity`, and the rest is lost; those
   of mtask_io_read. On a stream socket as mtask_io_read. */
MTASK_API mtask_status mtask_io_recvfrom(int fd, void *buffer, size_t capacity, size_t *count,
                                         mtask_address *from, int64_t timeout);

/* Sends one datagram (NULL: to where the socket is connected). MTASK_OK, MTASK_SYSTEM (EMSGSIZE
   ...), those of mtask_io_write. */
MTASK_API mtask_status mtask_io_sendto(int fd, const void *data, size_t size,
                                       const mtask_address *to, int64_t timeout);

/* ---- >>stream: buffered ---- */

/* A descriptor with buffers. One task or thread at a time reads; any number write: each write stays
   in one piece. What is written is sent when the buffer is full, when its reader has to wait for
   input, by mtask_stream_drain and _close; and if tasks use it, also when their loop has run all
   that could run. A stream that tasks use belongs to the loop of the first of them, and is
   destroyed on that loop's thread, or when the loop has ended; other threads may read, write and
   close it: what they write is sent at once, or soon by the loop. While a stream waits for input
   with nothing in its buffers, it has none. */
typedef struct mtask_stream mtask_stream;

/* How to make one. Zero, or NULL, means the default. */
typedef struct mtask_stream_desc {
    size_t buffer; /* bytes (default: MTASK_STREAM_BUFFER) */
    /* Most bytes of a line, without its end, or of another piece that is waited for as a whole,
       without its mark (default: MTASK_STREAM_LIMIT). */
    size_t limit;
} mtask_stream_desc;

/* Makes a stream of a descriptor, which becomes its own, and mtask's (mtask_io_adopt). MTASK_OK,
   MTASK_NOMEM, MTASK_SYSTEM: then the descriptor is still the caller's. */
MTASK_API mtask_status mtask_stream_open(mtask_stream **stream, int fd,
                                         const mtask_stream_desc *desc);

/* mtask_tcp_connect, and a stream of that. */
MTASK_API mtask_status mtask_stream_connect(mtask_stream **stream, const char *address,
                                            const mtask_stream_desc *desc, int64_t timeout);

/* Its descriptor; -1 once it is closed. */
MTASK_API int mtask_stream_fd(const mtask_stream *stream);

/* Waits until at least `least` bytes of input are in the buffer. *data is where they lie, *size how
   many there are, all that has come: they stay there, and valid, until the next call that reads
   or skips. MTASK_OK; MTASK_CLOSED: the input ends before; *data and *size are what is left.
   MTASK_OVERFLOW: `least` is beyond the limit. After other errors likewise *data and *size are what
   has come: nothing is lost. Those of mtask_io_read. */
MTASK_API mtask_status mtask_stream_fill(mtask_stream *stream, size_t least, const char **data,
                                         size_t *size, int64_t timeout);

/* Takes `size` bytes out of the buffer, after mtask_stream_fill. MTASK_OK; MTASK_INVALID: so many
   are not in it. */
MTASK_API mtask_status mtask_stream_skip(mtask_stream *stream, size_t size);

/* Reads what there is, `capacity` bytes at most, waiting for the first; as mtask_io_read. */
MTASK_API mtask_status mtask_stream_read(mtask_stream *stream, void *buffer, size_t capacity,
                                         size_t *count, int64_t timeout);

/* Reads `size` bytes, all of them; `count` (NULL allowed) receives how many it got, also if it ends
   early: they are taken out, and one goes on behind them. MTASK_OK; MTASK_CLOSED: the input ends
   before. Those of mtask_io_read. */
MTASK_API mtask_status mtask_stream_read_exactly(mtask_stream *stream, void *buffer, size_t size,
                                                 size_t *count, int64_t timeout);

/* Reads up to and including the `length` bytes of `mark` (at least one). *data and *size are what
   it read, in the stream's buffer until the next call that reads. MTASK_OK; MTASK_CLOSED: the input
   ended before; *data and *size are what is left, and stay to be read; MTASK_OVERFLOW: more than
   the limit without the mark; nothing is taken out. Others likewise, as mtask_stream_fill. */
MTASK_API mtask_status mtask_stream_read_until(mtask_stream *stream, const void *mark,
                                               size_t length, const char **data, size_t *size,
                                               int64_t timeout);

/* Reads a line; *line is without its "\n" or "\r\n", ends in a zero, is the caller's to change, and
   valid until the next call that reads; *size (NULL allowed) is how long it is. The last line needs
   no end. MTASK_OK; MTASK_CLOSED: there is no other one. MTASK_OVERFLOW as above. After an error
   *line is NULL. */
MTASK_API mtask_status mtask_stream_read_line(mtask_stream *stream, char **line, size_t *size,
                                              int64_t timeout);

/* Whether the end of the input was seen and nothing is left in the buffer. Does not wait. */
MTASK_API bool mtask_stream_at_eof(const mtask_stream *stream);

/* For servers, between two requests: waits until there is input, as mtask_stream_fill of one byte;
   but answers MTASK_CLOSED also if the server that runs this handler is stopping. */
MTASK_API mtask_status mtask_stream_idle(mtask_stream *stream, int64_t timeout);

/* Writes all of it: into the buffer, or, if that would be full, to the system, waiting until it has
   taken so much that the rest fits. MTASK_OK; those of mtask_io_write. An error stays: later writes
   and drains tell of it, too, except after MTASK_TIMEOUT and MTASK_CANCELED before a byte of this
   call was taken. If they come later, the stream is MTASK_BROKEN for writing: nobody could
   know how much arrived. */
MTASK_API mtask_status mtask_stream_write(mtask_stream *stream, const void *data, size_t size,
                                          int64_t timeout);

/* The same, of several pieces, at most 1024, that stay together. */
MTASK_API mtask_status mtask_stream_writev(mtask_stream *stream, const struct iovec *parts, int n,
                                           int64_t timeout);

/* The same, of a formatted text. Also MTASK_INVALID: a format that cannot be. */
MTASK_API mtask_status mtask_stream_printf(mtask_stream *stream, int64_t timeout,
                                           const char *format, ...) MTASK__PRINTF(3, 4);

/* Sends what is in the buffer, waiting until the system has taken all. MTASK_OK; those of
   mtask_io_write (after MTASK_TIMEOUT and MTASK_CANCELED what is left stays in the buffer). */
MTASK_API mtask_status mtask_stream_drain(mtask_stream *stream, int64_t timeout);

/* Bytes that are in the buffer and not sent. */
MTASK_API size_t mtask_stream_pending(const mtask_stream *stream);

/* Writes `size` bytes of a file, as mtask_io_sendfile. */
MTASK_API mtask_status mtask_stream_sendfile(mtask_stream *stream, int file, int64_t offset,
                                             size_t size, int64_t timeout);

/* Sends what is in the buffer, and tells the other end that no more comes; reading goes on.
   MTASK_OK, those of mtask_stream_drain; MTASK_UNSUPPORTED: not a socket. */
MTASK_API mtask_status mtask_stream_shutdown(mtask_stream *stream, int64_t timeout);

/* Sends what is in the buffer and closes the descriptor in any case; what waits for the stream is
   told MTASK_BROKEN. MTASK_OK (also if it was closed); else why not all was sent. */
MTASK_API mtask_status mtask_stream_close(mtask_stream *stream, int64_t timeout);

/* Closes the descriptor at once: what is in the buffers is lost, and the other end of a TCP
   connection is told by a reset. What its reader has read and not taken can still be had. Does not
   wait. */
MTASK_API void mtask_stream_abort(mtask_stream *stream);

/* Closes the descriptor, if it is not, without sending what is in the buffer, and frees the stream,
   which nobody may use any more. NULL is allowed. Does not wait. */
MTASK_API void mtask_stream_destroy(mtask_stream *stream);

/* ---- >>offload: functions that block ---- */

/* In a task: has a thread of mtask's run fn(arg), while the task waits for it, always until it has
   ended: neither cancellation nor limits end this wait, so `arg` may lie on the stack. Outside of a
   loop: calls it. `outcome` (NULL allowed) says how it ended. MTASK_OK, MTASK_FAILED; MTASK_INVALID
   (no fn), MTASK_NOMEM, MTASK_SYSTEM: it was not called. */
MTASK_API mtask_status mtask_offload(mtask_fn fn, void *arg, mtask_outcome *outcome);

/* Has a thread (outside of a loop and without a time-out, the caller's) run fn on a copy of the
   `size` bytes at `data`, which are overwritten with what is in the copy then if it ends within
   `timeout` nanoseconds. Otherwise it goes on alone: nobody hears of its end, and the copy is freed
   then, after `drop` (NULL allowed) was called for it, to let go of what is in it; so it is too if
   fn was never called. It must not use anything else that its caller owns. `outcome` as above.
   MTASK_OK, MTASK_FAILED; MTASK_TIMEOUT, MTASK_CANCELED: it goes on, or was never called;
   MTASK_INVALID, MTASK_NOMEM, MTASK_SYSTEM, MTASK_DEADLOCK. */
MTASK_API mtask_status mtask_offload_for(mtask_fn fn, void *data, size_t size,
                                         void (*drop)(void *data), mtask_outcome *outcome,
                                         int64_t timeout);

/* ---- >>file: files ---- */

/* Calls of files may block where nothing can be waited for: in a task they are off-loaded, unless
   what is asked for is in memory. None is cut short by cancellation or limits. */

/* As open; *fd is close-on-exec; close it by close or mtask_io_close. MTASK_OK; MTASK_NOT_FOUND: no
   such file; MTASK_SYSTEM. In a task, all of these also MTASK_NOMEM. After an error *fd is -1. */
MTASK_API mtask_status mtask_file_open(int *fd, const char *path, int flags, unsigned mode);

/* Reads up to `capacity` bytes from `offset` on, as many as there are: `count` is less only at the
   end. MTASK_OK; MTASK_CLOSED: nothing, `offset` is at the end or beyond; MTASK_SYSTEM. */
MTASK_API mtask_status mtask_file_read(int fd, void *buffer, size_t capacity, int64_t offset,
                                       size_t *count);

/* Writes all of it from `offset` on. MTASK_OK, MTASK_SYSTEM (ENOSPC ...). */
MTASK_API mtask_status mtask_file_write(int fd, const void *data, size_t size, int64_t offset);

/* Reads a whole file of at most `limit` bytes; *data has a zero behind its end; give it back with
   mtask_file_free. MTASK_OK, MTASK_OVERFLOW (it is longer), MTASK_NOT_FOUND, MTASK_NOMEM,
   MTASK_SYSTEM. After an error *data is NULL. */
MTASK_API mtask_status mtask_file_load(const char *path, size_t limit, char **data, size_t *size);
MTASK_API void mtask_file_free(char *data);

/* Writes a whole file anew: others see the old one or all of the new one, which has its mode.
   MTASK_OK, MTASK_NOT_FOUND (no such folder), MTASK_NOMEM, MTASK_SYSTEM (ENOSPC ...). */
MTASK_API mtask_status mtask_file_save(const char *path, const void *data, size_t size);

/* ---- >>signal: signals as something to wait for ---- */

/* Signals of the process that are caught. */
typedef struct mtask_signals mtask_signals;

/* Catches the `count` signals from now on, instead of what they did before; several may catch the
   same. When the last is destroyed, they do again what they did. Destroy it. MTASK_OK;
   MTASK_INVALID: no such signal, or one that cannot be caught, or none; MTASK_NOMEM; MTASK_FULL: 64
   of them exist; MTASK_SYSTEM. */
MTASK_API mtask_status mtask_signals_create(mtask_signals **signals, const int *numbers,
                                            size_t count);

/* Waits for one of them; *number receives which. One that comes several times before it is waited
   for is told of once. MTASK_OK; those of mtask_io_wait. */
MTASK_API mtask_status mtask_signals_wait(mtask_signals *signals, int *number, int64_t timeout);

/* Lets go of them. Nobody may wait any more. NULL is allowed. */
MTASK_API void mtask_signals_destroy(mtask_signals *signals);

/* ---- >>child: child processes as something to wait for ---- */

/* Waits until the child `pid` of this process has ended, and takes note of that, as waitpid;
   *status (NULL allowed) is what that says. One at a time for each child. MTASK_OK;
   MTASK_NOT_FOUND: no such child; MTASK_INVALID: pid is not positive; those of mtask_io_wait: then
   it can be waited for again. */
MTASK_API mtask_status mtask_child_wait(pid_t pid, int *status, int64_t timeout);

/* ---- >>serve: servers ---- */

/* What listens, accepts, and runs a handler in a task for each connection. */
typedef struct mtask_server mtask_server;

/* Called in a task of its own for each connection. The stream is sent out, closed and destroyed
   when it returns (it may have closed it before). */
typedef void mtask_handler(mtask_stream *stream, void *ctx);

# define MTASK_LOOP_PER_CPU UINT32_MAX

/* How to serve. Zero, or NULL, means the default. */
typedef struct mtask_serve_desc {
    void *ctx;              /* for the handler and on_ready */
    unsigned loops;         /* so many threads with a loop each, which share the port;
                               MTASK_LOOP_PER_CPU: one for each CPU (default: in a task, none: its
                               own loop serves; elsewhere 1, for mtask_serve in the calling
                               thread) */
    size_t max_connections; /* at once, all loops together; others wait to be accepted (default: no
                               limit) */
    mtask_listen_desc listen;
    mtask_stream_desc stream;
    size_t stack_size; /* of handlers (default: MTASK_CORO_STACK) */
    int64_t grace;     /* once it is stopped, handlers are cancelled after so many nanoseconds
                               (default: 10 seconds); negative: at once */
    int64_t
        close_timeout; /* for what is left to send when a handler returns (default: 10 seconds) */
    bool signals;      /* mtask_serve: SIGINT and SIGTERM stop it */
    void (*on_ready)(mtask_server *server, void *ctx); /* mtask_serve: it listens now */
} mtask_serve_desc;

/* Starts to serve, and returns once it listens. Destroy it. MTASK_OK; MTASK_INVALID (no handler);
   those of mtask_tcp_listen; MTASK_NOMEM, MTASK_SYSTEM: a loop or its thread could not be started. */
MTASK_API mtask_status mtask_server_start(mtask_server **server, const char *address,
                                          mtask_handler *handler, const mtask_serve_desc *desc);

/* Where it listens: the port, if that was to be a free one. */
MTASK_API mtask_status mtask_server_address(const mtask_server *server, mtask_address *address);

/* What it has done. */
typedef struct mtask_server_stats {
    size_t accepted;    /* connections so far */
    size_t connections; /* now */
    size_t stalls;      /* how often it could not accept for lack of descriptors or memory, and went
                           on later */
} mtask_server_stats;

/* Counts them; from any thread. */
MTASK_API mtask_server_stats mtask_server_get_stats(const mtask_server *server);

/* Has it stop: it accepts no more, waits in mtask_stream_idle end, and after the grace the handlers
   that are left are cancelled. From any task or thread, also a handler. Does not wait. */
MTASK_API void mtask_server_stop(mtask_server *server);

/* Whether it has been told to. */
MTASK_API bool mtask_server_is_stopping(const mtask_server *server);

/* Waits until it has stopped and all handlers have returned. MTASK_OK; MTASK_TIMEOUT,
   MTASK_CANCELED; MTASK_DEADLOCK: called by one of its own handlers; MTASK_INVALID. */
MTASK_API mtask_status mtask_server_join(mtask_server *server, int64_t timeout);

/* Stops it, waits for that whatever happens, and frees it. Not in a handler of it: MTASK_DEADLOCK.
   One whose loop is the caller's is destroyed there. NULL is allowed. */
MTASK_API mtask_status mtask_server_destroy(mtask_server *server);

/* Starts a server, and waits until it has stopped: by mtask_server_stop (on_ready, and handlers by
   their ctx, know it), by a signal, or because the calling task is cancelled: MTASK_CANCELED.
   Otherwise as mtask_server_start. */
MTASK_API mtask_status mtask_serve(const char *address, mtask_handler *handler,
                                   const mtask_serve_desc *desc);

/* ---- >>io-siblings: what mtask_proc.h stands on; not for users ---- */

/* Sees to forks: whoever does so after this runs his handlers inside of these. */
MTASK_API void mtask__io_init(void);

/* mtask_io_wait of one event, for whoever has just tried, in vain: without another look. */
MTASK_API mtask_status mtask__io_wait_after(int fd, unsigned event, int64_t timeout);

# ifdef __cplusplus
} /* extern "C" */
# endif

#endif /* MTASK_IO_H */

/* ================================ implementation ================================ */

#if (defined(MTASK_IMPLEMENTATION) || defined(MTASK_IO_IMPLEMENTATION)) &&                         \
    !defined(MTASK_IO_IMPLEMENTED)
# define MTASK_IO_IMPLEMENTED

# include <arpa/inet.h>
# include <errno.h>
# include <fcntl.h>
# include <limits.h>
# include <net/if.h>
# include <netdb.h>
# include <netinet/tcp.h>
# include <poll.h>
# include <pthread.h>
# include <signal.h>
# include <stdarg.h>
# include <stdio.h>
# include <stdlib.h>
# include <string.h>
# include <sys/stat.h>
# include <sys/wait.h>
# include <unistd.h>

# ifdef __cplusplus
extern "C" {
# endif

/* ---- >>io-contract: what a platform supplies, beside the pollers of mtask_coro.h ---- */

/* As socket, socketpair and accept; what they make does not block, and children do not inherit it. */
static int mtask__os_socket(int domain, int type);
static bool mtask__os_socketpair(int ends[2]);
static int mtask__os_accept(int fd, struct sockaddr *address, socklen_t *size);

/* As writev, but without a SIGPIPE. ENOSYS: there is no such call. */
static ssize_t mtask__os_write_quiet(int fd, const struct iovec *parts, int n);

/* Sends a piece of a file; as write. ENOSYS: there is no such call. */
static ssize_t mtask__os_sendfile(int to, int file, int64_t offset, size_t size);

/* Reads what of a file is in memory; as pread. EAGAIN: it might block. */
static ssize_t mtask__os_read_cached(int fd, void *buffer, size_t capacity, int64_t offset);

/* A descriptor that becomes readable when the child ends. -1: there is none. */
static int mtask__os_child_fd(pid_t pid);

/* ---- >>io-state: what the process and its loops keep of descriptors ---- */

/* What the process knows of a descriptor: a word.
     bit  0       OWN: mtask made or adopted it, and closes it
     bit  1       SOCKET (of those of its own)
     bit  2       STREAM: of TCP, or a pipe, so that a read that brings less than was asked for has
                  emptied it, and a write that takes less has filled it
     
     bits 4..11   home: the number of the loop that watches it; 0: none, SHARED: several, or a thread
     bits 12..31  generation: counted up when it is closed or made anew
   All of it changes by read-modify-writes. */
enum {
    MTASK__FD_OWN = 1,
    MTASK__FD_SOCKET = 2,
    MTASK__FD_STREAM = 4,

    MTASK__FD_SHARED = 255, /* as a home */
    MTASK__FD_HOME = 4,     /* where it begins */
    MTASK__FD_GENERATION = 12
};
# define MTASK__FD_CHUNK  1024u /* words that are allocated together */
# define MTASK__FD_CHUNKS 1024u /* descriptors of 1,048,576 and above are refused */

static mtask_word mtask__fd_generation(mtask_word word) {
    return word >> MTASK__FD_GENERATION;
}

static unsigned mtask__fd_home(mtask_word word) {
    return word >> MTASK__FD_HOME & MTASK__FD_SHARED;
}

/* A strand's wait for some descriptors. */
typedef struct mtask__io_wait {
    mtask__waiter waiter;
    bool broken; /* one of them was closed */
} mtask__io_wait;

/* One of them, in the list of that descriptor. */
typedef struct mtask__io_node {
    struct mtask__io_node *next;
    struct mtask__io_node *prev;
    mtask__io_wait *wait; /* NULL: it is not in a list */
    mtask_io_case *which;
} mtask__io_node;

/* What a loop keeps of a descriptor. */
typedef struct mtask__record {
    mtask__io_node *first; /* those who wait */
    mtask_stream *sender;  /* what this stream holds back is sent when there is room again */
    mtask_word generation; /* for which the rest holds */
    unsigned char ready; /* MTASK__POLL_*: has come, and was not used up; known of STREAMs alone */
    bool watched;        /* the poller tells of it */
    uint16_t serial;     /* how often the poller was told of it anew */
} mtask__record;

/* Memory for a stream's buffer that waits for the next one. */
typedef struct mtask__spare {
    struct mtask__spare *next;
} mtask__spare;

# define MTASK__IO_SPARES 64 /* most that a loop keeps */
# define MTASK__IO_STREAK 64 /* calls that need not wait before others have a turn */

/* What a loop keeps for I/O. */
typedef struct mtask__io {
    mtask__loop_io base;
    mtask_loop *loop;
    unsigned number; /* as the home of descriptors */
    mtask__record *records;
    size_t capacity;
    mtask_stream *streams;   /* all that its tasks use */
    mtask_stream *unsent;    /* those that hold something back */
    mtask_stream *entrusted; /* those that others left to it; guarded by the process's lock */
    mtask_loop_call entrust; /* posted when there are some */
    mtask__spare *spare;
    unsigned spares;
    const mtask__strand *runner; /* who made the last call */
    unsigned streak;             /* how many in a row, without a wait */
    mtask_loop_call closed;      /* posted when another thread has closed something */
    struct mtask__io *next;      /* in the list of the process; guarded by its lock */
    struct mtask__io *prev;
} mtask__io;

/* A thread that waits, not in a task. Guarded by the process's lock. */
typedef struct mtask__sleeper {
    struct mtask__sleeper *next;
    struct mtask__sleeper *prev;
    const mtask_io_case *cases;
    size_t count;
    int bell[2]; /* a pipe by which it is told; -1: none could be made */
    bool told;   /* one of its descriptors was closed */
} mtask__sleeper;

# define MTASK__BELLS   8  /* most that are kept for the next sleepers */
# define MTASK__CATCHES 64 /* most objects that catch signals */

/* What the process keeps. */
typedef struct mtask__io_state {
    mtask_mutex lock;   /* guards what follows, but for words and catches */
    mtask_word watched; /* 1: forks have been seen to */
    mtask__io *loops;
    mtask__sleeper *sleepers;
    int bells[MTASK__BELLS][2];
    unsigned bell_count;
    mtask_pool *pool; /* for what is off-loaded */
    mtask_word pool_nonce;
    mtask_word *words[MTASK__FD_CHUNKS];
    mtask_signals *catches[MTASK__CATCHES];
    mtask_word catching;        /* handlers at work, in any thread */
    unsigned caught[NSIG];      /* how many objects catch each signal */
    struct sigaction old[NSIG]; /* what it did before */
} mtask__io_state;

# define mtask__io_process MTASK__VERSIONED(mtask__io_process)
MTASK__ONE mtask__io_state mtask__io_process;
MTASK__MERGED(mtask__io_process)

static void mtask__signals_forget(void);

static void mtask__io_fork_prepare(void) {
    mtask__lock(&mtask__io_process.lock);
}

static void mtask__io_fork_parent(void) {
    mtask__unlock(&mtask__io_process.lock);
}

/* Loops and sleeping threads are the parent's; so are their pipes. */
static void mtask__io_fork_child(void) {
    mtask__io_state *state = &mtask__io_process;
    state->watched = 1;
    for (mtask__sleeper *sleeper = state->sleepers; sleeper != NULL; sleeper = sleeper->next)
        for (int i = 0; i < 2; i++)
            if (sleeper->bell[i] >= 0)
                (void)close(sleeper->bell[i]);
    for (unsigned i = 0; i < state->bell_count; i++) {
        (void)close(state->bells[i][0]);
        (void)close(state->bells[i][1]);
    }
    state->bell_count = 0;
    state->loops = NULL;
    state->sleepers = NULL;
    mtask__signals_forget();
    mtask__store(&state->lock.word, 0, RELAXED); /* there is one thread: pairs with none */
}

/* Before the first use. */
MTASK_API void mtask__io_init(void) {
    mtask__at_fork(&mtask__io_process.watched, mtask__io_fork_prepare, mtask__io_fork_parent,
                   mtask__io_fork_child);
}

/* The word of a descriptor. NULL: it has none, or (`make`) there is no memory; errno says which. */
static mtask_word *mtask__fd_word(int fd, bool make) {
    mtask_word **place;
    mtask_word *chunk;
    mtask_word *made;
    if (fd < 0 || (unsigned)fd >= MTASK__FD_CHUNK * MTASK__FD_CHUNKS) {
        errno = fd < 0 ? EBADF : EMFILE;
        return NULL;
    }
    place = &mtask__io_process.words[(unsigned)fd / MTASK__FD_CHUNK];
    chunk = mtask__load(place, ACQUIRE); /* pairs with the CAS below */
    if (chunk == NULL && make) {
        made = (mtask_word *)MTASK_MALLOC(MTASK__FD_CHUNK * sizeof *made);
        if (made == NULL) {
            errno = ENOMEM;
            return NULL;
        }
        memset(made, 0, MTASK__FD_CHUNK * sizeof *made);
        if (!mtask__cas(place, &chunk, made, RELEASE))
            MTASK_FREE(made);
        chunk = mtask__load(place, ACQUIRE); /* pairs with the CAS of whoever was first */
    }
    return chunk != NULL ? &chunk[(unsigned)fd % MTASK__FD_CHUNK] : NULL;
}

static mtask_word mtask__fd_look(int fd) {
    const mtask_word *chunk = NULL;
    if ((unsigned)fd < MTASK__FD_CHUNK * MTASK__FD_CHUNKS) /* nor negative */
        chunk = mtask__load(&mtask__io_process.words[(unsigned)fd / MTASK__FD_CHUNK],
                            ACQUIRE); /* pairs with the CAS in mtask__fd_word */
    return chunk != NULL ? mtask__load(&chunk[(unsigned)fd % MTASK__FD_CHUNK], ACQUIRE)
                         : 0; /* pairs with mtask__fd_renew */
}

/* What mtask__fd_word's failure is called. */
static mtask_status mtask__fd_refused(void) {
    return errno == ENOMEM ? MTASK_NOMEM : MTASK_SYSTEM;
}

/* Begins a new generation, with these bits; returns what was. */
static mtask_word mtask__fd_renew(mtask_word *word, mtask_word bits) {
    mtask_word old = mtask__load(word, RELAXED); /* a guess that the CAS confirms */
    mtask_word made;
    do
        made = (mtask__fd_generation(old) + 1) << MTASK__FD_GENERATION | bits;
    while (!mtask__cas(word, &old, made, ACQ_REL)); /* pairs with itself, and mtask__fd_look */
    return old;
}

/* Notes that the loop of that number waits for it; returns what the word is now. */
static mtask_word mtask__fd_claim(mtask_word *word, unsigned number) {
    mtask_word old = mtask__load(word, ACQUIRE); /* pairs with mtask__fd_renew */
    mtask_word made;
    for (;;) {
        unsigned home = mtask__fd_home(old);
        if (home == number || home == MTASK__FD_SHARED)
            return old;
        made = old | (home == 0 ? number : (unsigned)MTASK__FD_SHARED) << MTASK__FD_HOME;
        /* Pairs with mtask__fd_renew in a close: either that sees who waits, or this the
           generation. */
        if (mtask__cas(word, &old, made, ACQ_REL))
            return made;
    }
}

/* A descriptor that mtask has made: from now on its own. */
static mtask_status mtask__fd_own(int fd, mtask_word bits) {
    mtask_word *word = mtask__fd_word(fd, true);
    if (word == NULL)
        return mtask__fd_refused();
    (void)mtask__fd_renew(word, MTASK__FD_OWN | bits);
    return MTASK_OK;
}

/* The same, or it is closed. */
static mtask_status mtask__fd_keep(int *fd, mtask_word bits) {
    mtask_status status = mtask__fd_own(*fd, bits);
    int saved = errno;
    if (status != MTASK_OK) {
        (void)close(*fd);
        *fd = -1;
        errno = saved;
    }
    return status;
}

/* ---- >>io-record: what a loop keeps of each descriptor ---- */

/* Has the strand whose wait this is go on. On its loop's thread. */
static void mtask__io_wake(mtask__io_wait *wait) {
    if (mtask__unpark(&wait->waiter))
        mtask__strand_ready(mtask__strand_of(wait->waiter.parker));
}

/* It was closed: whoever waits is told. */
static void mtask__record_break(mtask__record *record) {
    for (mtask__io_node *node = record->first; node != NULL; node = node->next) {
        node->wait->broken = true;
        mtask__io_wake(node->wait);
    }
}

/* Another descriptor has the number now. Nodes of the old one stay in the list until those who wait
   take them out; they are told already. */
static void mtask__record_renew(mtask__io *io, int fd, mtask_word generation) {
    mtask__record *record = &io->records[fd];
    mtask__record_break(record);
    if (record->watched)
        mtask__os_poller_want(&io->loop->poller, fd, 0);
    record->sender = NULL;
    record->generation = generation;
    record->ready = 0;
    record->watched = false;
}

/* The record of a descriptor whose word is this. NULL: no memory. */
static mtask__record *mtask__io_record(mtask__io *io, int fd, mtask_word word) {
    mtask__record *record;
    size_t capacity = io->capacity < 64 ? 64 : io->capacity;
    if ((size_t)fd >= io->capacity) {
        while (capacity <= (size_t)fd)
            capacity *= 2;
        record = (mtask__record *)MTASK_REALLOC(io->records, capacity * sizeof *record);
        if (record == NULL)
            return NULL;
        memset((void *)(record + io->capacity), 0, (capacity - io->capacity) * sizeof *record);
        io->records = record;
        io->capacity = capacity;
    }
    record = &io->records[fd];
    if (record->generation != mtask__fd_generation(word))
        mtask__record_renew(io, fd, mtask__fd_generation(word));
    return record;
}

/* The record, if the loop watches the descriptor whose word is this. */
static mtask__record *mtask__io_watched(const mtask__io *io, int fd, mtask_word word) {
    mtask__record *record = (size_t)fd < io->capacity ? &io->records[fd] : NULL;
    if (record == NULL || !record->watched || record->generation != mtask__fd_generation(word))
        return NULL;
    return record;
}

/* What is waited for now: see mtask__os_poller_want. */
static void mtask__io_want(mtask__io *io, int fd) {
    const mtask__record *record = &io->records[fd];
    unsigned events = record->sender != NULL ? (unsigned)MTASK__POLL_WRITE : 0u;
    for (const mtask__io_node *node = record->first; node != NULL; node = node->next)
        events |= node->which->events;
    if (record->watched)
        mtask__os_poller_want(&io->loop->poller, fd, events);
}

/* By what the poller's events are known: the generation, how often it was told of the number in
   that, and a bit more, since 0 means something else. */
static uint32_t mtask__record_tag(const mtask__record *record) {
    return record->generation | (uint32_t)(record->serial % 2048) << 20 | (uint32_t)1 << 31;
}

static void mtask__stream_push(mtask_stream *stream);

/* The loop's poller says that a descriptor is ready. One of an older generation, which the system
   still had to tell of, is passed over. */
static void mtask__io_tell(mtask_loop *loop, int fd, uint32_t tag, unsigned events) {
    mtask__io *io = (mtask__io *)(void *)loop->io; /* base comes first */
    mtask__record *record = (size_t)fd < io->capacity ? &io->records[fd] : NULL;
    mtask_word generation;
    if (record == NULL || mtask__record_tag(record) != tag)
        return;
    generation = mtask__fd_generation(mtask__fd_look(fd));
    if (generation != record->generation) { /* another thread has closed it */
        mtask__record_renew(io, fd, generation);
        return;
    }
    record->ready = (unsigned char)(record->ready | events);
    for (mtask__io_node *node = record->first; node != NULL; node = node->next) {
        node->which->ready |= events & node->which->events;
        if (node->which->ready != 0)
            mtask__io_wake(node->wait);
    }
    if (record->sender != NULL && (events & MTASK__POLL_WRITE) != 0)
        mtask__stream_push(record->sender);
}

/* Has the poller tell of what has the number now. */
static mtask_status mtask__record_watch(mtask__record *record, mtask__poller *poller, int fd) {
    mtask_status status = MTASK_NOT_FOUND;
    if (record->watched)
        status = mtask__os_poller_watch(poller, fd, mtask__record_tag(record), true);
    if (status == MTASK_NOT_FOUND) { /* what is known of the number is of another file */
        record->serial++;
        status = mtask__os_poller_watch(poller, fd, mtask__record_tag(record), false);
    }
    record->watched = status == MTASK_OK;
    record->ready = MTASK__POLL_READ | MTASK__POLL_WRITE; /* for all that is known */
    return status;
}

/* Has the loop told of a descriptor. Of its own it is, from the first time on; others may have been
   closed behind its back. What `fd` was when its caller began must still be: `began` (a word).
   Who closes it in another thread looks for those who wait under the lock, before that.
   MTASK_OK, MTASK_UNSUPPORTED (always ready), MTASK_BROKEN, MTASK_NOMEM, MTASK_SYSTEM. */
static mtask_status mtask__io_watch(mtask__io *io, int fd, mtask_word began) {
    mtask__record *record = mtask__io_watched(io, fd, mtask__fd_look(fd));
    mtask_word *place;
    mtask_word word;
    mtask_status status;
    if (record != NULL && (began & MTASK__FD_OWN) != 0)
        return record->generation == mtask__fd_generation(began) ? MTASK_OK : MTASK_BROKEN;
    place = mtask__fd_word(fd, true);
    if (place == NULL)
        return mtask__fd_refused();
    word = mtask__fd_claim(place, io->number);
    if (mtask__fd_generation(word) != mtask__fd_generation(began))
        return MTASK_BROKEN;
    record = mtask__io_record(io, fd, word);
    if (record == NULL)
        return MTASK_NOMEM;
    mtask__lock(&mtask__io_process.lock);
    if (mtask__fd_generation(mtask__load(place, ACQUIRE)) != record->generation)
        status = MTASK_BROKEN; /* acquire: pairs with mtask__fd_renew */
    else
        status = mtask__record_watch(record, &io->loop->poller, fd);
    mtask__unlock(&mtask__io_process.lock);
    return status;
}

/* Sees which descriptors others have closed. */
static void mtask__io_closed(void *arg) {
    mtask__io *io = (mtask__io *)arg;
    for (size_t fd = 0; fd < io->capacity; fd++)
        if (io->records[fd].first != NULL || io->records[fd].watched)
            (void)mtask__io_record(io, (int)fd, mtask__fd_look((int)fd));
}

/* A number for a loop that no other has. Under the lock. */
static unsigned mtask__io_number(void) {
    bool taken[MTASK__FD_SHARED];
    unsigned number = 1;
    memset(taken, 0, sizeof taken);
    for (const mtask__io *io = mtask__io_process.loops; io != NULL; io = io->next)
        if (io->number < MTASK__FD_SHARED)
            taken[io->number] = true;
    while (number < MTASK__FD_SHARED && taken[number])
        number++;
    return number; /* with very many loops each close looks at all of them */
}

static void mtask__io_flush(mtask_loop *loop);
static void mtask__stream_leave(mtask_stream *stream);

static void mtask__io_entrusted(void *arg);

static void mtask__io_free(mtask_loop *loop) {
    mtask__io *io = (mtask__io *)(void *)loop->io;
    mtask__spare *next;
    mtask__io_flush(loop);
    while (io->streams != NULL)
        mtask__stream_leave(io->streams);
    mtask__lock(&mtask__io_process.lock);
    if (io->next != NULL)
        io->next->prev = io->prev;
    if (io->prev != NULL)
        io->prev->next = io->next;
    else
        mtask__io_process.loops = io->next;
    mtask__unlock(&mtask__io_process.lock); /* from now on nobody posts `closed` */
    for (mtask__spare *spare = io->spare; spare != NULL; spare = next) {
        next = spare->next;
        MTASK_FREE(spare);
    }
    MTASK_FREE(io->records);
    MTASK_FREE(io);
    loop->io = NULL;
}

/* What the calling thread's loop keeps. NULL: no memory. */
static mtask__io *mtask__io_of(mtask_loop *loop) {
    mtask__io *io = (mtask__io *)(void *)loop->io;
    if (io != NULL)
        return io;
    io = (mtask__io *)MTASK_MALLOC(sizeof *io);
    if (io == NULL)
        return NULL;
    mtask__io_init();
    memset(io, 0, sizeof *io);
    io->base.tell = mtask__io_tell;
    io->base.flush = mtask__io_flush;
    io->base.free = mtask__io_free;
    io->loop = loop;
    io->closed.fn = mtask__io_closed;
    io->closed.arg = io;
    io->entrust.fn = mtask__io_entrusted;
    io->entrust.arg = io;
    mtask__lock(&mtask__io_process.lock);
    io->number = mtask__io_number();
    io->next = mtask__io_process.loops;
    if (io->next != NULL)
        io->next->prev = io;
    mtask__io_process.loops = io;
    mtask__unlock(&mtask__io_process.lock);
    loop->io = &io->base;
    return io;
}

/* ---- >>io-wait: how tasks wait for descriptors ---- */

/* Why no readiness is lost. A task waits only after a try has failed, and it does not let others
   run in between. What becomes ready after the try, the system tells the loop later, since it
   watches the descriptor already, or is told now to watch it and then tells of all that is ready.
   The loop hands that to those who are in the descriptor's list, which the task has joined by then;
   and to the `ready` bits, by which those know of it who have not tried yet. */

static void mtask__node_link(mtask__io *io, mtask__io_node *node, mtask__io_wait *wait,
                             mtask_io_case *which) {
    mtask__record *record = &io->records[which->fd];
    node->wait = wait;
    node->which = which;
    node->prev = NULL;
    node->next = record->first;
    if (node->next != NULL)
        node->next->prev = node;
    record->first = node;
    record->ready = (unsigned char)(record->ready & ~which->events); /* a try has failed */
    mtask__io_want(io, which->fd);
}

static void mtask__node_unlink(mtask__io *io, mtask__io_node *node) {
    mtask__record *record = &io->records[node->which->fd];
    if (node->next != NULL)
        node->next->prev = node->prev;
    if (node->prev != NULL)
        node->prev->next = node->next;
    else
        record->first = node->next;
    mtask__io_want(io, node->which->fd);
}

/* Joins the lists of all that are not always ready; MTASK_UNSUPPORTED: some are. */
static mtask_status mtask__io_join(mtask__io *io, mtask_io_case *cases, const mtask_word *began,
                                   mtask__io_node *nodes, size_t count, mtask__io_wait *wait) {
    mtask_status status = MTASK_OK;
    for (size_t i = 0; i < count; i++) {
        mtask_status one;
        cases[i].ready = 0;
        if (cases[i].fd < 0)
            continue;
        one = mtask__io_watch(io, cases[i].fd, began[i]);
        if (one == MTASK_UNSUPPORTED) {
            cases[i].ready = cases[i].events;
            status = one;
        } else if (one == MTASK_OK) {
            mtask__node_link(io, &nodes[i], wait, &cases[i]);
        } else {
            return one;
        }
    }
    return status;
}

static void mtask__io_wait_init(mtask__io_wait *wait, mtask__io *io, mtask__strand *self, int fd) {
    memset((void *)wait, 0, sizeof *wait);
    wait->waiter.expected = (mtask_word)fd;
    wait->waiter.flags = MTASK__DESCRIPTOR;
    wait->waiter.queued = true;
    wait->waiter.parker = &self->parker;
    io->streak = 0;
}

static mtask_status mtask__io_suspend(mtask__strand *self, mtask__io_wait *wait, int64_t deadline) {
    mtask_status status;
    self->loop->outside++;
    status = mtask__strand_park(&self->parker, &wait->waiter, deadline);
    self->loop->outside--;
    return status;
}

/* Parks until one of them is ready. */
static mtask_status mtask__io_park(mtask__strand *self, mtask_io_case *cases,
                                   const mtask_word *began, mtask__io_node *nodes, size_t count,
                                   int64_t deadline) {
    mtask__io *io = mtask__io_of(self->loop);
    mtask__io_wait wait;
    mtask_status status;
    if (io == NULL)
        return MTASK_NOMEM;
    memset((void *)nodes, 0, count * sizeof *nodes);
    mtask__io_wait_init(&wait, io, self, cases[0].fd);
    status = mtask__io_join(io, cases, began, nodes, count, &wait);
    if (status == MTASK_OK)
        status = mtask__io_suspend(self, &wait, deadline);
    else if (status == MTASK_UNSUPPORTED)
        status = MTASK_OK;
    for (size_t i = 0; i < count; i++) {
        if (nodes[i].wait != NULL)
            mtask__node_unlink(io, &nodes[i]);
        if (cases[i].ready != 0 && status != MTASK_NOMEM && status != MTASK_SYSTEM)
            status = MTASK_OK;
    }
    return wait.broken ? MTASK_BROKEN : status;
}

/* ---- >>io-thread: how threads wait for descriptors ---- */

/* Why it is told of each close: it says in the words of its descriptors that somebody waits, and
   puts itself into the list, under the lock. Who closes one of them begins a new generation and
   then looks for sleepers under the lock: so either it finds this one, or this one has found the
   new generation. */

static void mtask__bell_take(int bell[2]) {
    mtask__io_state *state = &mtask__io_process;
    bell[0] = bell[1] = -1;
    if (state->bell_count > 0) {
        state->bell_count--;
        bell[0] = state->bells[state->bell_count][0];
        bell[1] = state->bells[state->bell_count][1];
    } else {
        (void)mtask__os_pipe(bell); /* without one it looks now and then */
    }
}

static void mtask__bell_give(const int bell[2]) {
    mtask__io_state *state = &mtask__io_process;
    if (bell[0] < 0)
        return;
    if (state->bell_count < MTASK__BELLS) {
        state->bells[state->bell_count][0] = bell[0];
        state->bells[state->bell_count][1] = bell[1];
        state->bell_count++;
        return;
    }
    (void)close(bell[0]);
    (void)close(bell[1]);
}

static mtask_status mtask__sleeper_begin(mtask__sleeper *sleeper, const mtask_io_case *cases,
                                         const mtask_word *began, size_t count) {
    mtask_status status = MTASK_OK;
    mtask__io_init();
    sleeper->cases = cases;
    sleeper->count = count;
    sleeper->told = false;
    sleeper->prev = NULL;
    mtask__lock(&mtask__io_process.lock);
    for (size_t i = 0; i < count && status == MTASK_OK; i++) {
        mtask_word *word = cases[i].fd < 0 ? NULL : mtask__fd_word(cases[i].fd, true);
        if (cases[i].fd >= 0 && word == NULL)
            status = mtask__fd_refused();
        else if (word != NULL && mtask__fd_generation(mtask__fd_claim(word, MTASK__FD_SHARED)) !=
                                     mtask__fd_generation(began[i]))
            status = MTASK_BROKEN;
    }
    if (status == MTASK_OK) {
        mtask__bell_take(sleeper->bell);
        sleeper->next = mtask__io_process.sleepers;
        if (sleeper->next != NULL)
            sleeper->next->prev = sleeper;
        mtask__io_process.sleepers = sleeper;
    }
    mtask__unlock(&mtask__io_process.lock);
    return status;
}

/* Whether it was told. */
static bool mtask__sleeper_end(mtask__sleeper *sleeper) {
    int saved = errno;
    mtask__lock(&mtask__io_process.lock);
    if (sleeper->next != NULL)
        sleeper->next->prev = sleeper->prev;
    if (sleeper->prev != NULL)
        sleeper->prev->next = sleeper->next;
    else
        mtask__io_process.sleepers = sleeper->next;
    if (sleeper->told && sleeper->bell[0] >= 0)
        mtask__os_drain(sleeper->bell[0]);
    mtask__bell_give(sleeper->bell);
    mtask__unlock(&mtask__io_process.lock);
    errno = saved;
    return sleeper->told;
}

static bool mtask__sleeper_has(const mtask__sleeper *sleeper, int fd) {
    for (size_t i = 0; i < sleeper->count; i++)
        if (sleeper->cases[i].fd == fd)
            return true;
    return false;
}

/* Fills in what is polled for. */
static void mtask__io_ask(struct pollfd *polled, const mtask_io_case *cases, size_t count) {
    for (size_t i = 0; i < count; i++) {
        polled[i].fd = cases[i].fd;
        polled[i].events = (short)(((cases[i].events & MTASK_IO_READ) != 0 ? POLLIN : 0) |
                                   ((cases[i].events & MTASK_IO_WRITE) != 0 ? POLLOUT : 0));
        polled[i].revents = 0;
    }
}

/* Says what poll has found: MTASK_OK; MTASK_EMPTY: nothing; MTASK_SYSTEM: one is no descriptor. */
static mtask_status mtask__io_answer(const struct pollfd *polled, mtask_io_case *cases,
                                     size_t count) {
    mtask_status status = MTASK_EMPTY;
    for (size_t i = 0; i < count; i++) {
        short events = polled[i].revents;
        unsigned ready = (events & POLLIN) != 0 ? MTASK_IO_READ : 0;
        if ((events & POLLOUT) != 0)
            ready |= MTASK_IO_WRITE;
        if ((events & (POLLERR | POLLHUP)) != 0)
            ready |= MTASK_IO_READ | MTASK_IO_WRITE;
        cases[i].ready = ready & cases[i].events;
        if ((events & POLLNVAL) != 0) {
            errno = EBADF;
            return MTASK_SYSTEM;
        }
        if (cases[i].ready != 0)
            status = MTASK_OK;
    }
    return status;
}

/* Polls until `deadline` (0: just looks). MTASK_OK, MTASK_TIMEOUT, MTASK_SYSTEM, and MTASK_EMPTY:
   the bell, polled[count], has rung, or it is time to look whether it would have. */
static mtask_status mtask__io_poll(struct pollfd *polled, mtask_io_case *cases, size_t count,
                                   bool bell, int64_t deadline) {
    mtask_status status = MTASK_EMPTY;
    int64_t end = deadline;
    if (bell && polled[count].fd < 0 && deadline > mtask_now() + MTASK_MS(50))
        end = mtask_now() + MTASK_MS(50);
    for (;;) {
        struct timespec span = mtask__os_span(end);
        int found =
            ppoll(polled, (nfds_t)(count + bell), end == MTASK_FOREVER ? NULL : &span, NULL);
        if (found < 0 && errno != EINTR)
            return MTASK_SYSTEM;
        if (found < 0)
            continue; /* it has not looked, even if there was no time left */
        if (found > 0)
            status = mtask__io_answer(polled, cases, count);
        if (found > 0 || (bell && end != deadline))
            return status;
        if (deadline != MTASK_FOREVER && mtask_until(deadline) == 0)
            return MTASK_TIMEOUT;
    }
}

/* The calling thread sleeps until one of them is ready; `polled` has room for one more. */
static mtask_status mtask__io_sleep(mtask_io_case *cases, const mtask_word *began,
                                    struct pollfd *polled, size_t count, int64_t deadline) {
    mtask__sleeper sleeper;
    mtask_status status = mtask__sleeper_begin(&sleeper, cases, began, count);
    bool told = false;
    if (status != MTASK_OK)
        return status;
    mtask__io_ask(polled, cases, count);
    polled[count].fd = sleeper.bell[0];
    polled[count].events = POLLIN;
    polled[count].revents = 0;
    do {
        status = mtask__io_poll(polled, cases, count, true, deadline);
        mtask__lock(&mtask__io_process.lock);
        told = sleeper.told;
        mtask__unlock(&mtask__io_process.lock);
    } while (status == MTASK_EMPTY && !told);
    return mtask__sleeper_end(&sleeper) ? MTASK_BROKEN : status;
}

/* ---- >>io-try: a call that tries, waits, and tries again ---- */

# define MTASK__IO_FEW 8 /* cases that are waited for without an allocation */

/* Who waits here: the strand; NULL: the thread. */
static mtask__strand *mtask__io_self(void) {
    mtask__strand *self = mtask__strand_here();
    return self != NULL && self->blocks == 0 ? self : NULL;
}

/* Waits until one of them is ready, after a try has failed. `began`: their words before that. */
static mtask_status mtask__io_await(mtask_io_case *cases, const mtask_word *began, size_t count,
                                    int64_t deadline) {
    const mtask_loop *loop = mtask__coro_me()->loop;
    mtask__strand *self = mtask__io_self();
    mtask__io_node nodes[MTASK__IO_FEW];
    struct pollfd polled[MTASK__IO_FEW + 1];
    void *memory = NULL;
    size_t size = self != NULL ? sizeof *nodes : sizeof *polled;
    mtask_status status;
    if (self == NULL && loop != NULL && loop->inside && loop->running == NULL)
        return MTASK_DEADLOCK;
    if (count > MTASK__IO_FEW && (memory = MTASK_MALLOC((count + 1) * size)) == NULL)
        return MTASK_NOMEM;
    if (self != NULL)
        status = mtask__io_park(self, cases, began,
                                memory != NULL ? (mtask__io_node *)memory : nodes, count, deadline);
    else
        status = mtask__io_sleep(cases, began, memory != NULL ? (struct pollfd *)memory : polled,
                                 count, deadline);
    MTASK_FREE(memory);
    for (size_t i = 0; i < count && status != MTASK_OK; i++)
        cases[i].ready = 0;
    if (status == MTASK_BROKEN)
        errno = EBADF;
    return status;
}

/* A call on a descriptor. */
typedef struct mtask__op {
    int fd;
    unsigned event;  /* what it waits for */
    mtask_word word; /* of the descriptor, when it began */
    bool socket;     /* for all that is known */
    size_t gentle;   /* it would block: each try comes after a look, and writes so much; 0: no */
    bool counted;    /* `deadline` holds */
    int64_t timeout;
    int64_t deadline;
    mtask__strand *self; /* NULL: a thread */
    mtask__io *io;       /* of its loop */
} mtask__op;

/* Of whoever does not wait. */
static void mtask__op_init(mtask__op *op, int fd, unsigned event, int64_t timeout) {
    op->fd = fd;
    op->event = event;
    op->word = mtask__fd_look(fd);
    op->socket = (op->word & (MTASK__FD_OWN | MTASK__FD_SOCKET)) != MTASK__FD_OWN;
    op->gentle = 0;
    op->counted = false;
    op->timeout = timeout;
    op->deadline = 0;
    op->self = NULL;
    op->io = NULL;
}

/* MTASK_OK, MTASK_INVALID, MTASK_NOMEM. */
static mtask_status mtask__op_begin(mtask__op *op, int fd, unsigned event, int64_t timeout) {
    if (timeout < 0)
        return MTASK_INVALID;
    mtask__op_init(op, fd, event, timeout);
    op->self = mtask__io_self();
    op->io = op->self != NULL ? mtask__io_of(op->self->loop) : NULL;
    return op->self != NULL && op->io == NULL ? MTASK_NOMEM : MTASK_OK;
}

/* From the first wait on, its time runs. */
static mtask_status mtask__op_count(mtask__op *op) {
    if (op->timeout == 0)
        return MTASK_TIMEOUT;
    if (op->counted)
        return MTASK_OK;
    op->counted = true;
    return mtask__deadline(op->timeout, &op->deadline);
}

/* mtask__io_await, of a task and one descriptor. */
static mtask_status mtask__op_park(const mtask__op *op, mtask_io_case *one) {
    mtask__io_node node;
    mtask__io_wait wait;
    mtask_status status = mtask__io_watch(op->io, op->fd, op->word);
    wait.broken = status == MTASK_BROKEN;
    if (status == MTASK_OK) {
        mtask__io_wait_init(&wait, op->io, op->self, op->fd);
        mtask__node_link(op->io, &node, &wait, one);
        status = mtask__io_suspend(op->self, &wait, op->deadline);
        mtask__node_unlink(op->io, &node);
    }
    if (wait.broken) {
        errno = EBADF;
        return MTASK_BROKEN;
    }
    return status == MTASK_UNSUPPORTED || one->ready != 0 ? MTASK_OK : status;
}

static mtask_status mtask__op_wait(mtask__op *op) {
    mtask_io_case one;
    mtask_status status = mtask__op_count(op);
    if (status != MTASK_OK)
        return status;
    one.fd = op->fd;
    one.events = op->event;
    one.ready = 0;
    if (op->self != NULL)
        return mtask__op_park(op, &one);
    return mtask__io_await(&one, &op->word, 1, op->deadline);
}

/* Whether one that would block is ready: MTASK_OK, MTASK_EMPTY, MTASK_SYSTEM. */
static mtask_status mtask__op_look(const mtask__op *op) {
    mtask_io_case one;
    struct pollfd polled;
    mtask_status status;
    one.fd = op->fd;
    one.events = op->event;
    mtask__io_ask(&polled, &one, 1);
    status = mtask__io_poll(&polled, &one, 1, false, 0);
    return status == MTASK_TIMEOUT ? MTASK_EMPTY : status;
}

/* Whether a try would be in vain: the last one has taken all there was, and nothing has come since.
   After odd events that cannot be known. Nor can it be known now, but only when the loop has looked
   again; so who cannot wait for that tries. */
static bool mtask__op_is_idle(const mtask__op *op) {
    const mtask__record *record;
    if ((op->word & MTASK__FD_STREAM) == 0 || op->io == NULL)
        return false;
    record = mtask__io_watched(op->io, op->fd, op->word);
    return record != NULL && (record->ready & (op->event | MTASK__POLL_ODD)) == 0 &&
           op->timeout != 0 && (op->self == NULL || !mtask__strand_has_reason(op->self));
}

/* A task that never has to wait lets the others run now and then. */
static void mtask__io_turn(mtask__io *io, mtask__strand *self) {
    if (io->runner != self)
        io->streak = 0;
    io->runner = self;
    if (++io->streak > MTASK__IO_STREAK) {
        io->streak = 0;
        mtask__strand_yield(self);
    }
}

/* Before each try: others may have waited long enough, it may have been closed meanwhile, and there
   may be nothing to try: MTASK_EMPTY. */
static mtask_status mtask__op_enter(mtask__op *op) {
    if (op->self != NULL && op->timeout != 0)
        mtask__io_turn(op->io, op->self);
    if (mtask__fd_generation(mtask__fd_look(op->fd)) != mtask__fd_generation(op->word)) {
        errno = EBADF;
        return MTASK_BROKEN;
    }
    if (mtask__op_is_idle(op))
        return MTASK_EMPTY;
    return op->gentle != 0 ? mtask__op_look(op) : MTASK_OK;
}

/* How much one can write to what blocks, and is ready, so that it does not: a pipe has a page free;
   a terminal says only that there is some room; files never are not ready: 0. */
static size_t mtask__fd_portion(int fd) {
    struct stat info;
    if (fstat(fd, &info) != 0 || S_ISREG(info.st_mode))
        return 0;
    return S_ISFIFO(info.st_mode) ? (size_t)PIPE_BUF : 1;
}

/* It turned out not to be a socket. If it blocks, it is tried only when it is ready: its mode is
   also that of all who share it. */
static mtask_status mtask__op_no_socket(mtask__op *op) {
    int flags = fcntl(op->fd, F_GETFL);
    if (flags < 0)
        return MTASK_SYSTEM;
    if ((flags & O_ACCMODE) == (op->event == MTASK_IO_READ ? O_WRONLY : O_RDONLY)) {
        errno = EBADF; /* it would never be ready */
        return MTASK_SYSTEM;
    }
    op->socket = false;
    op->gentle = (flags & O_NONBLOCK) == 0 ? mtask__fd_portion(op->fd) : 0;
    return MTASK_OK;
}

/* After a try that failed; errno says why. MTASK_OK: try again at once; MTASK_EMPTY: it would have
   to wait. */
static mtask_status mtask__op_failed(mtask__op *op) {
    switch (errno) {
    case EINTR:
        return MTASK_OK;
    case EAGAIN:
# if EWOULDBLOCK != EAGAIN
    case EWOULDBLOCK:
# endif
        return MTASK_EMPTY;
    case ENOTSOCK:
        return op->socket ? mtask__op_no_socket(op) : MTASK_SYSTEM;
    case ECONNRESET:
    case ECONNABORTED:
    case EPIPE:
    case ETIMEDOUT:
        return MTASK_BROKEN;
    default:
        return MTASK_SYSTEM;
    }
}

/* A try brought or took `got` of `asked` bytes. */
static void mtask__op_moved(const mtask__op *op, size_t got, size_t asked) {
    mtask__record *record;
    if (got >= asked || (op->word & MTASK__FD_STREAM) == 0 || op->io == NULL)
        return;
    record = mtask__io_watched(op->io, op->fd, op->word);
    if (record != NULL)
        record->ready = (unsigned char)(record->ready & ~op->event);
}

/* While a thread writes to what is no socket, the system must not raise SIGPIPE. */
typedef struct mtask__pipe_guard {
    sigset_t old;
    bool pending; /* there was one before */
} mtask__pipe_guard;

static void mtask__pipe_guard_begin(mtask__pipe_guard *guard) {
    sigset_t set;
    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGPIPE);
    (void)pthread_sigmask(SIG_BLOCK, &set, &guard->old);
    guard->pending = false;
    if (sigismember(&guard->old, SIGPIPE) == 1 && sigpending(&set) == 0)
        guard->pending = sigismember(&set, SIGPIPE) == 1;
}

/* The signal of a write that failed just now is taken away. */
static void mtask__pipe_guard_end(const mtask__pipe_guard *guard, bool failed) {
    sigset_t set;
    int number;
    int saved = errno;
    if (failed && errno == EPIPE && !guard->pending && sigpending(&set) == 0 &&
        sigismember(&set, SIGPIPE) == 1) {
        (void)sigemptyset(&set);
        (void)sigaddset(&set, SIGPIPE);
        (void)sigwait(&set, &number);
    }
    (void)pthread_sigmask(SIG_SETMASK, &guard->old, NULL);
    errno = saved;
}

/* ---- >>io ---- */

# define MTASK__IO_MOST  1024 /* cases, or pieces */
# define MTASK__IO_PARTS 16   /* pieces that are copied for one system call */

/* MTASK_OK; MTASK_EMPTY: there is none; MTASK_INVALID. */
static mtask_status mtask__io_check(const mtask_io_case *cases, size_t count, mtask_word *began) {
    mtask_status status = MTASK_EMPTY;
    for (size_t i = 0; i < count; i++) {
        if (cases[i].fd < 0 || status == MTASK_INVALID)
            continue;
        status = MTASK_OK;
        if (cases[i].events == 0 || (cases[i].events & ~(MTASK_IO_READ | MTASK_IO_WRITE)) != 0)
            status = MTASK_INVALID;
        began[i] = mtask__fd_look(cases[i].fd);
    }
    return status;
}

static mtask_status mtask__io_select(mtask_io_case *cases, size_t count, int64_t timeout,
                                     mtask_word *began, struct pollfd *polled) {
    mtask__strand *self = mtask__io_self();
    mtask__io *io = self != NULL ? mtask__io_of(self->loop) : NULL;
    int64_t deadline;
    mtask_status status = mtask__io_check(cases, count, began);
    if (status == MTASK_EMPTY) {
        status = mtask_sleep(timeout);
        return status == MTASK_OK ? MTASK_TIMEOUT : status;
    }
    if (status == MTASK_OK)
        status = mtask__deadline(timeout, &deadline);
    if (status != MTASK_OK)
        return status;
    if (io != NULL && timeout != 0)
        mtask__io_turn(io, self);
    mtask__io_ask(polled, cases, count);
    status = mtask__io_poll(polled, cases, count, false, 0);
    if (status != MTASK_TIMEOUT || timeout == 0)
        return status;
    return mtask__io_await(cases, began, count, deadline);
}

MTASK_API mtask_status mtask__io_wait_after(int fd, unsigned event, int64_t timeout) {
    mtask__op op;
    mtask_status status = mtask__op_begin(&op, fd, event, timeout);
    return status == MTASK_OK ? mtask__op_wait(&op) : status;
}

MTASK_API mtask_status mtask_io_select(mtask_io_case *cases, size_t count, int64_t timeout) {
    mtask_word began[MTASK__IO_FEW];
    struct pollfd polled[MTASK__IO_FEW];
    char *memory;
    mtask_status status;
    for (size_t i = 0; i < count; i++)
        cases[i].ready = 0;
    if (count > MTASK__IO_MOST || timeout < 0)
        return MTASK_INVALID;
    if (count <= MTASK__IO_FEW)
        return mtask__io_select(cases, count, timeout, began, polled);
    memory = (char *)MTASK_MALLOC(count * (sizeof *polled + sizeof *began));
    if (memory == NULL)
        return MTASK_NOMEM;
    status = mtask__io_select(cases, count, timeout,
                              (mtask_word *)(void *)(memory + count * sizeof *polled),
                              (struct pollfd *)(void *)memory);
    MTASK_FREE(memory);
    return status;
}

MTASK_API mtask_status mtask_io_wait(int fd, unsigned events, int64_t timeout) {
    mtask_io_case one;
    one.fd = fd;
    one.events = events;
    one.ready = 0;
    if (fd < 0 && timeout >= 0 && events != 0) {
        errno = EBADF;
        return MTASK_SYSTEM;
    }
    return mtask_io_select(&one, 1, timeout);
}

/* What is left of some pieces of memory. */
typedef struct mtask__pieces {
    const struct iovec *parts;
    int n;
    size_t offset; /* in the first */
    size_t left;   /* bytes, all together */
} mtask__pieces;

/* MTASK_OK, MTASK_INVALID. */
static mtask_status mtask__pieces_init(mtask__pieces *pieces, const struct iovec *parts, int n) {
    pieces->parts = parts;
    pieces->n = n;
    pieces->offset = 0;
    pieces->left = 0;
    if (n < 0 || n > MTASK__IO_MOST)
        return MTASK_INVALID;
    for (int i = 0; i < n; i++) {
        if (parts[i].iov_len > (size_t)SSIZE_MAX - pieces->left)
            return MTASK_INVALID;
        pieces->left += parts[i].iov_len;
    }
    return MTASK_OK;
}

/* Takes `size` bytes from the front. */
static void mtask__pieces_skip(mtask__pieces *pieces, size_t size) {
    pieces->left -= size;
    while (pieces->n > 0 && size >= pieces->parts->iov_len - pieces->offset) {
        size -= pieces->parts->iov_len - pieces->offset;
        pieces->offset = 0;
        pieces->parts++;
        pieces->n--;
    }
    pieces->offset += size;
}

/* Copies the first `most` of what is left; returns how many, and their bytes. */
static int mtask__pieces_copy(const mtask__pieces *pieces, struct iovec *few, int most,
                              size_t *size) {
    int n = pieces->n < most ? pieces->n : most;
    *size = 0;
    for (int i = 0; i < n; i++) {
        size_t offset = i == 0 ? pieces->offset : 0;
        few[i].iov_base = (char *)pieces->parts[i].iov_base + offset;
        few[i].iov_len = pieces->parts[i].iov_len - offset;
        *size += few[i].iov_len;
    }
    return n;
}

/* What is left, for one call: all of it as it is, or, if a part of the first is gone, the next ones
   in `few`. */
static struct iovec *mtask__pieces_show(const mtask__pieces *pieces,
                                        struct iovec few[MTASK__IO_PARTS], int *n, size_t *size) {
    if (pieces->offset != 0) {
        *n = mtask__pieces_copy(pieces, few, MTASK__IO_PARTS, size);
        return few;
    }
    *n = pieces->n;
    *size = pieces->left;
    return (struct iovec *)(uintptr_t)pieces->parts;
}

static void mtask__message(struct msghdr *message, struct iovec *parts, int n) {
    memset(message, 0, sizeof *message);
    message->msg_iov = parts;
    message->msg_iovlen = (size_t)n;
}

/* One try. */
static ssize_t mtask__op_get(const mtask__op *op, struct iovec *parts, int n) {
    struct msghdr message;
    if (!op->socket)
        return n == 1 ? read(op->fd, parts->iov_base, parts->iov_len) : readv(op->fd, parts, n);
    if (n == 1)
        return recv(op->fd, parts->iov_base, parts->iov_len, MSG_DONTWAIT);
    mtask__message(&message, parts, n);
    return recvmsg(op->fd, &message, MSG_DONTWAIT);
}

static ssize_t mtask__op_put(const mtask__op *op, struct iovec *parts, int n) {
    struct msghdr message;
    mtask__pipe_guard guard;
    ssize_t put;
    if (op->socket && n == 1)
        return send(op->fd, parts->iov_base, parts->iov_len, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (op->socket) {
        mtask__message(&message, parts, n);
        return sendmsg(op->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    }
    put = mtask__os_write_quiet(op->fd, parts, n);
    if (put >= 0 || errno != ENOSYS)
        return put;
    mtask__pipe_guard_begin(&guard);
    put = n == 1 ? write(op->fd, parts->iov_base, parts->iov_len) : writev(op->fd, parts, n);
    mtask__pipe_guard_end(&guard, put < 0);
    return put;
}

/* Reads, if that needs no wait: else MTASK_EMPTY. MTASK_CLOSED: the end. */
static mtask_status mtask__op_try_read(mtask__op *op, struct iovec *parts, int n, size_t asked,
                                       size_t *count) {
    ssize_t got;
    mtask_status status;
    do {
        status = mtask__op_enter(op);
        if (status != MTASK_OK)
            return status;
        got = mtask__op_get(op, parts, n);
        if (got > 0)
            mtask__op_moved(op, (size_t)got, asked);
        *count = got > 0 ? (size_t)got : 0;
        if (got >= 0)
            return got > 0 ? MTASK_OK : MTASK_CLOSED;
        status = mtask__op_failed(op);
    } while (status == MTASK_OK);
    return status;
}

/* Writes some of it, likewise. */
static mtask_status mtask__op_try_write(mtask__op *op, struct iovec *parts, int n, size_t asked,
                                        size_t *count) {
    struct iovec first;
    ssize_t put;
    mtask_status status;
    do {
        status = mtask__op_enter(op);
        if (status != MTASK_OK)
            return status;
        first = *parts;
        if (op->gentle != 0 && first.iov_len > op->gentle)
            first.iov_len = op->gentle;
        put = mtask__op_put(op, op->gentle != 0 ? &first : parts, op->gentle != 0 ? 1 : n);
        *count = put > 0 ? (size_t)put : 0;
        if (put >= 0) {
            mtask__op_moved(op, (size_t)put, asked);
            return MTASK_OK;
        }
        status = mtask__op_failed(op);
    } while (status == MTASK_OK);
    return status;
}

/* Reads some, at least one byte. */
static mtask_status mtask__op_read(mtask__op *op, const mtask__pieces *pieces, size_t *count) {
    struct iovec few[MTASK__IO_PARTS];
    size_t asked;
    int n;
    struct iovec *parts = mtask__pieces_show(pieces, few, &n, &asked);
    mtask_status status;
    for (;;) {
        status = mtask__op_try_read(op, parts, n, asked, count);
        if (status == MTASK_EMPTY)
            status = mtask__op_wait(op);
        else
            return status;
        if (status != MTASK_OK)
            return status;
    }
}

/* Writes some; what was written is taken from the pieces. */
static mtask_status mtask__op_write(mtask__op *op, mtask__pieces *pieces) {
    struct iovec few[MTASK__IO_PARTS];
    size_t asked;
    size_t put;
    int n;
    struct iovec *parts = mtask__pieces_show(pieces, few, &n, &asked);
    mtask_status status = mtask__op_try_write(op, parts, n, asked, &put);
    if (status == MTASK_OK)
        mtask__pieces_skip(pieces, put);
    return status == MTASK_EMPTY ? mtask__op_wait(op) : status;
}

MTASK_API mtask_status mtask_io_readv(int fd, const struct iovec *parts, int n, size_t *count,
                                      int64_t timeout) {
    mtask__op op;
    mtask__pieces pieces;
    size_t got = 0;
    mtask_status status = mtask__pieces_init(&pieces, parts, n);
    if (status == MTASK_OK)
        status = mtask__op_begin(&op, fd, MTASK_IO_READ, timeout);
    if (status == MTASK_OK && pieces.left > 0)
        status = mtask__op_read(&op, &pieces, &got);
    if (count != NULL)
        *count = got;
    return status;
}

MTASK_API mtask_status mtask_io_writev(int fd, const struct iovec *parts, int n, size_t *count,
                                       int64_t timeout) {
    mtask__op op;
    mtask__pieces pieces;
    size_t size;
    mtask_status status = mtask__pieces_init(&pieces, parts, n);
    if (status == MTASK_OK)
        status = mtask__op_begin(&op, fd, MTASK_IO_WRITE, timeout);
    size = pieces.left;
    while (status == MTASK_OK && pieces.left > 0)
        status = mtask__op_write(&op, &pieces);
    if (count != NULL)
        *count = status == MTASK_INVALID ? 0 : size - pieces.left;
    return status;
}

MTASK_API mtask_status mtask_io_read(int fd, void *buffer, size_t capacity, size_t *count,
                                     int64_t timeout) {
    struct iovec part;
    part.iov_base = buffer;
    part.iov_len = capacity < (size_t)SSIZE_MAX ? capacity : (size_t)SSIZE_MAX;
    return mtask_io_readv(fd, &part, 1, count, timeout);
}

MTASK_API mtask_status mtask_io_write(int fd, const void *data, size_t size, size_t *count,
                                      int64_t timeout) {
    struct iovec part;
    part.iov_base = (void *)(uintptr_t)data;
    part.iov_len = size;
    return mtask_io_writev(fd, &part, 1, count, timeout);
}

/* Sends a piece of a file through memory. */
static mtask_status mtask__sendfile_copy(mtask__op *op, int file, int64_t offset, size_t size,
                                         size_t *count) {
    char buffer[2048];
    struct iovec part;
    mtask__pieces pieces;
    mtask_status status = MTASK_OK;
    ssize_t got = pread(file, buffer, size < sizeof buffer ? size : sizeof buffer, (off_t)offset);
    if (got < 0)
        return errno == EINTR ? MTASK_OK : MTASK_SYSTEM;
    part.iov_base = buffer;
    part.iov_len = (size_t)got;
    (void)mtask__pieces_init(&pieces, &part, 1);
    while (status == MTASK_OK && pieces.left > 0)
        status = mtask__op_write(op, &pieces);
    *count += (size_t)got - pieces.left;
    return got == 0 ? MTASK_CLOSED : status;
}

/* One try; *direct: by the system's own call, if it can. */
static mtask_status mtask__sendfile_try(mtask__op *op, int file, int64_t offset, size_t size,
                                        size_t *count, bool *direct) {
    mtask__pipe_guard guard;
    ssize_t sent;
    mtask_status status = mtask__op_enter(op);
    if (status != MTASK_OK)
        return status == MTASK_EMPTY ? mtask__op_wait(op) : status;
    mtask__pipe_guard_begin(&guard);
    sent = mtask__os_sendfile(op->fd, file, offset, size);
    mtask__pipe_guard_end(&guard, sent < 0);
    if (sent >= 0) {
        *count += (size_t)sent;
        return sent == 0 ? MTASK_CLOSED : MTASK_OK;
    }
    if (errno == EINVAL || errno == ENOSYS || errno == EOPNOTSUPP || errno == EOVERFLOW) {
        *direct = false;
        return MTASK_OK;
    }
    status = mtask__op_failed(op);
    return status == MTASK_EMPTY ? mtask__op_wait(op) : status;
}

MTASK_API mtask_status mtask_io_sendfile(int fd, int file, int64_t offset, size_t size,
                                         size_t *count, int64_t timeout) {
    mtask__op op;
    size_t sent = 0;
    bool direct = true;
    mtask_status status = mtask__op_begin(&op, fd, MTASK_IO_WRITE, timeout);
    if (offset < 0 || (uint64_t)offset + size > (uint64_t)INT64_MAX)
        status = MTASK_INVALID;
    if (status == MTASK_OK && (op.word & MTASK__FD_OWN) == 0 && fcntl(fd, F_GETFL) >= 0 &&
        (fcntl(fd, F_GETFL) & O_NONBLOCK) == 0)
        direct = false; /* that call would block */
    while (status == MTASK_OK && sent < size) {
        if (direct)
            status =
                mtask__sendfile_try(&op, file, offset + (int64_t)sent, size - sent, &sent, &direct);
        else
            status = mtask__sendfile_copy(&op, file, offset + (int64_t)sent, size - sent, &sent);
    }
    if (count != NULL)
        *count = sent;
    return status;
}

/* Tells all who might wait for a descriptor that is about to be closed, in whatever thread. */
static void mtask__io_spread(const mtask__io *mine, int fd) {
    mtask__io_state *state = &mtask__io_process;
    mtask__lock(&state->lock);
    for (mtask__io *io = state->loops; io != NULL; io = io->next)
        if (io != mine)
            (void)mtask_loop_post(io->loop, &io->closed);
    for (mtask__sleeper *sleeper = state->sleepers; sleeper != NULL; sleeper = sleeper->next)
        if (!sleeper->told && mtask__sleeper_has(sleeper, fd)) {
            sleeper->told = true;
            if (sleeper->bell[1] >= 0)
                (void)!write(sleeper->bell[1], "", 1);
        }
    mtask__unlock(&state->lock);
}

/* Ends a descriptor's generation. */
static void mtask__io_part(int fd) {
    const mtask_loop *loop = mtask__coro_me()->loop;
    mtask__io *io = loop != NULL ? (mtask__io *)(void *)loop->io : NULL;
    mtask_word *word = mtask__fd_word(fd, false);
    unsigned home = word != NULL ? mtask__fd_home(mtask__fd_renew(word, 0)) : 0;
    if (home == 0)
        return;
    if (io != NULL && (size_t)fd < io->capacity)
        (void)mtask__io_record(io, fd, mtask__fd_look(fd));
    if (io == NULL || home != io->number || home == MTASK__FD_SHARED)
        mtask__io_spread(io, fd);
}

MTASK_API mtask_status mtask_io_close(int fd) {
    int saved = errno;
    mtask__io_part(fd);
    if (close(fd) != 0 && errno != EINTR && errno != EINPROGRESS)
        return MTASK_SYSTEM;
    errno = saved;
    return MTASK_OK;
}

/* What kind of socket it is: bits of its word; 0: none. */
static mtask_word mtask__fd_kind(int fd) {
    struct sockaddr_storage address;
    socklen_t size = sizeof address;
    int type = 0;
    int listens = 0;
    socklen_t length = sizeof type;
    if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &length) != 0)
        return 0;
    if (type != SOCK_STREAM || getsockname(fd, (struct sockaddr *)&address, &size) != 0 ||
        (address.ss_family != AF_INET && address.ss_family != AF_INET6))
        return MTASK__FD_SOCKET;
    length = sizeof listens;
    if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &length) == 0 && listens != 0)
        return MTASK__FD_SOCKET;
    return MTASK__FD_SOCKET | MTASK__FD_STREAM;
}

MTASK_API mtask_status mtask_io_adopt(int fd) {
    int saved = errno;
    int flags;
    mtask_word kind;
    if ((mtask__fd_look(fd) & MTASK__FD_OWN) != 0)
        return MTASK_OK;
    flags = fcntl(fd, F_GETFL);
    if (flags < 0)
        return MTASK_SYSTEM;
    if (mtask__fd_word(fd, true) == NULL)
        return mtask__fd_refused();
    if ((flags & O_NONBLOCK) == 0 && fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0)
        return MTASK_SYSTEM;
    kind = mtask__fd_kind(fd);
    errno = saved;
    return mtask__fd_own(fd, kind); /* there is a word: see above */
}

/* Both become mtask's own, or both are closed. */
static mtask_status mtask__fd_keep_both(int ends[2], mtask_word bits) {
    mtask_status status = mtask__fd_keep(&ends[0], bits);
    if (status == MTASK_OK)
        status = mtask__fd_keep(&ends[1], bits);
    for (int i = 0; status != MTASK_OK && i < 2; i++) {
        if (ends[i] >= 0)
            (void)mtask_io_close(ends[i]);
        ends[i] = -1;
    }
    return status;
}

MTASK_API mtask_status mtask_io_pipe(int ends[2]) {
    return mtask__os_pipe(ends) ? mtask__fd_keep_both(ends, MTASK__FD_STREAM) : MTASK_SYSTEM;
}

MTASK_API mtask_status mtask_io_pair(int ends[2]) {
    return mtask__os_socketpair(ends) ? mtask__fd_keep_both(ends, MTASK__FD_SOCKET) : MTASK_SYSTEM;
}

/* ---- >>address ---- */

static void mtask__address_ip4(mtask_address *address, struct in_addr host, unsigned port) {
    memset(address, 0, sizeof *address);
    address->size = sizeof address->as.ip4;
    address->as.ip4.sin_family = AF_INET;
    address->as.ip4.sin_port = htons((uint16_t)port);
    address->as.ip4.sin_addr = host;
}

static void mtask__address_ip6(mtask_address *address, struct in6_addr host, unsigned scope,
                               unsigned port) {
    memset(address, 0, sizeof *address);
    address->size = sizeof address->as.ip6;
    address->as.ip6.sin6_family = AF_INET6;
    address->as.ip6.sin6_port = htons((uint16_t)port);
    address->as.ip6.sin6_addr = host;
    address->as.ip6.sin6_scope_id = scope;
}

/* "/path", or "@name" in the abstract space. */
static mtask_status mtask__address_path(mtask_address *address, const char *path) {
    size_t size = strlen(path);
    size_t end = path[0] == '@' ? size : size + 1; /* abstract names have no closing zero */
    if (size == 0 || end > sizeof address->as.path.sun_path || strcmp(path, "@") == 0)
        return MTASK_INVALID;
    memset(address, 0, sizeof *address);
    address->as.path.sun_family = AF_UNIX;
    memcpy(address->as.path.sun_path, path, size);
    if (path[0] == '@')
        address->as.path.sun_path[0] = '\0';
    address->size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + end);
    return MTASK_OK;
}

/* What "host:port" consists of. */
typedef struct mtask__hostport {
    char name[256];   /* without brackets; "" : all addresses */
    char service[64]; /* the port */
    bool bracketed;
    bool has_port; /* it is a number, */
    unsigned port; /* this one */
} mtask__hostport;

/* A number up to 65535, and nothing else. */
static bool mtask__port_parse(const char *text, unsigned *port) {
    *port = 0;
    for (; *text >= '0' && *text <= '9'; text++) {
        *port = *port * 10 + (unsigned)(*text - '0');
        if (*port > 65535)
            return false;
    }
    return *text == '\0';
}

/* MTASK_OK, MTASK_INVALID. */
static mtask_status mtask__hostport_parse(mtask__hostport *host, const char *text) {
    const char *colon = strrchr(text, ':');
    const char *end = colon;
    memset(host, 0, sizeof *host);
    host->bracketed = text[0] == '[';
    if (colon == NULL || colon[1] == '\0' || strlen(colon + 1) >= sizeof host->service)
        return MTASK_INVALID;
    if (host->bracketed) {
        text++;
        if (end == text || *--end != ']')
            return MTASK_INVALID;
    }
    if ((size_t)(end - text) >= sizeof host->name ||
        (!host->bracketed && memchr(text, ':', (size_t)(end - text)) != NULL))
        return MTASK_INVALID; /* an address of IPv6 needs its brackets */
    memcpy(host->name, text, (size_t)(end - text));
    memcpy(host->service, colon + 1, strlen(colon + 1));
    if (strcmp(host->name, "*") == 0)
        host->name[0] = '\0';
    host->has_port = mtask__port_parse(host->service, &host->port);
    if (!host->has_port && host->service[0] >= '0' && host->service[0] <= '9')
        return MTASK_INVALID;
    return MTASK_OK;
}

/* "fe80::1%eth0", or without the zone. */
static mtask_status mtask__hostport_ip6(const mtask__hostport *host, mtask_address *address) {
    char name[sizeof host->name];
    char *zone;
    struct in6_addr ip6;
    unsigned scope = 0;
    memcpy(name, host->name, sizeof name);
    zone = strchr(name, '%');
    if (zone != NULL) {
        *zone++ = '\0';
        scope = if_nametoindex(zone);
        if (scope == 0 && (!mtask__port_parse(zone, &scope) || scope == 0))
            return MTASK_INVALID;
    }
    if (inet_pton(AF_INET6, name, &ip6) != 1)
        return MTASK_INVALID;
    mtask__address_ip6(address, ip6, scope, host->port);
    return MTASK_OK;
}

/* The address, if no name has to be looked up: else MTASK_NOT_FOUND. */
static mtask_status mtask__hostport_address(const mtask__hostport *host, mtask_address *address) {
    struct in_addr ip4;
    if (!host->has_port)
        return MTASK_NOT_FOUND;
    if (host->bracketed)
        return mtask__hostport_ip6(host, address);
    if (host->name[0] == '\0')
        mtask__address_ip6(address, in6addr_any, 0, host->port);
    else if (inet_pton(AF_INET, host->name, &ip4) == 1)
        mtask__address_ip4(address, ip4, host->port);
    else
        return MTASK_NOT_FOUND;
    return MTASK_OK;
}

MTASK_API mtask_status mtask_address_parse(mtask_address *address, const char *text) {
    mtask__hostport host;
    mtask_status status;
    memset(address, 0, sizeof *address);
    if (strncmp(text, "unix:", 5) == 0)
        return mtask__address_path(address, text + 5);
    status = mtask__hostport_parse(&host, text);
    return status == MTASK_OK ? mtask__hostport_address(&host, address) : status;
}

static void mtask__path_text(const mtask_address *address, char *text, size_t size) {
    const char *path = address->as.path.sun_path;
    size_t length = 0;
    if (address->size > offsetof(struct sockaddr_un, sun_path))
        length = address->size - offsetof(struct sockaddr_un, sun_path);
    if (length > 1 && path[0] == '\0')
        (void)snprintf(text, size, "unix:@%.*s", (int)length - 1, path + 1);
    else
        (void)snprintf(text, size, "unix:%.*s", (int)length, length > 0 ? path : "");
}

MTASK_API char *mtask_address_text(const mtask_address *address, char *text, size_t size) {
    char host[INET6_ADDRSTRLEN] = "?";
    unsigned port = mtask_address_port(address);
    unsigned scope;
    if (address->size == 0) {
        (void)snprintf(text, size, "none");
    } else if (address->as.any.sa_family == AF_INET) {
        (void)inet_ntop(AF_INET, &address->as.ip4.sin_addr, host, sizeof host);
        (void)snprintf(text, size, "%s:%u", host, port);
    } else if (address->as.any.sa_family == AF_INET6) {
        scope = address->as.ip6.sin6_scope_id;
        (void)inet_ntop(AF_INET6, &address->as.ip6.sin6_addr, host, sizeof host);
        if (scope != 0)
            (void)snprintf(text, size, "[%s%%%u]:%u", host, scope, port);
        else
            (void)snprintf(text, size, "[%s]:%u", host, port);
    } else {
        mtask__path_text(address, text, size);
    }
    return text;
}

MTASK_API unsigned mtask_address_port(const mtask_address *address) {
    if (address->size != 0 && address->as.any.sa_family == AF_INET)
        return ntohs(address->as.ip4.sin_port);
    if (address->size != 0 && address->as.any.sa_family == AF_INET6)
        return ntohs(address->as.ip6.sin6_port);
    return 0;
}

/* A look-up. It travels to the thread that does it, and back. */
typedef struct mtask__lookup {
    mtask__hostport host;
    mtask_address found[16];
    size_t count;
    int failed; /* of getaddrinfo */
    int error;  /* errno of that */
} mtask__lookup;

# define MTASK__LOOKUP_MOST (sizeof((mtask__lookup *)NULL)->found / sizeof(mtask_address))

static void *mtask__lookup_run(void *arg) {
    mtask__lookup *lookup = (mtask__lookup *)arg;
    struct addrinfo hints;
    struct addrinfo *found = NULL;
    const char *name = lookup->host.name[0] != '\0' ? lookup->host.name : NULL;
    memset(&hints, 0, sizeof hints);
    hints.ai_socktype = SOCK_STREAM;
    hints.ai_flags = AI_PASSIVE;
    lookup->failed = getaddrinfo(name, lookup->host.service, &hints, &found);
    lookup->error = errno;
    if (lookup->failed != 0)
        return NULL;
    for (const struct addrinfo *one = found; one != NULL; one = one->ai_next)
        if (lookup->count < MTASK__LOOKUP_MOST && one->ai_addrlen <= sizeof lookup->found[0].as) {
            mtask_address *address = &lookup->found[lookup->count++];
            address->size = one->ai_addrlen;
            memcpy(&address->as, one->ai_addr, one->ai_addrlen);
        }
    freeaddrinfo(found);
    return NULL;
}

/* IPv6 and IPv4 in turn, beginning with what came first; otherwise in the same order (RFC 8305). */
static void mtask__lookup_mix(mtask__lookup *lookup) {
    for (size_t i = 1; i < lookup->count; i++) {
        size_t other = i;
        mtask_address moved;
        while (other < lookup->count &&
               lookup->found[other].as.any.sa_family == lookup->found[i - 1].as.any.sa_family)
            other++;
        if (other == lookup->count || other == i)
            continue;
        moved = lookup->found[other];
        memmove(&lookup->found[i + 1], &lookup->found[i], (other - i) * sizeof moved);
        lookup->found[i] = moved;
    }
}

static mtask_status mtask__lookup_status(const mtask__lookup *lookup) {
    switch (lookup->failed) {
    case 0:
        return lookup->count > 0 ? MTASK_OK : MTASK_NOT_FOUND;
    case EAI_MEMORY:
        return MTASK_NOMEM;
    case EAI_AGAIN:
        errno = EAGAIN;
        return MTASK_SYSTEM;
    case EAI_SYSTEM:
        errno = lookup->error;
        return MTASK_SYSTEM;
    default: /* no such name or service, or none for stream sockets */
        return MTASK_NOT_FOUND;
    }
}

/* Looks up what needs it. */
static mtask_status mtask__lookup_go(mtask__lookup *lookup, int64_t timeout) {
    mtask_status status =
        mtask_offload_for(mtask__lookup_run, lookup, sizeof *lookup, NULL, NULL, timeout);
    if (status != MTASK_OK)
        return status;
    mtask__lookup_mix(lookup);
    return mtask__lookup_status(lookup);
}

MTASK_API mtask_status mtask_resolve(const char *text, mtask_address *addresses, size_t capacity,
                                     size_t *count, int64_t timeout) {
    mtask__lookup lookup;
    mtask_status status;
    size_t n = 1;
    memset(&lookup, 0, sizeof lookup);
    if (count != NULL)
        *count = 0;
    if (capacity == 0 || timeout < 0)
        return MTASK_INVALID;
    status = mtask_address_parse(&lookup.found[0], text);
    if (status == MTASK_NOT_FOUND) {
        status = mtask__hostport_parse(&lookup.host, text);
        if (status == MTASK_OK)
            status = mtask__lookup_go(&lookup, timeout);
        n = lookup.count;
    }
    if (status != MTASK_OK)
        return status;
    n = n < capacity ? n : capacity;
    memcpy(addresses, lookup.found, n * sizeof *addresses);
    if (count != NULL)
        *count = n;
    return MTASK_OK;
}

MTASK_API mtask_status mtask_io_local(int fd, mtask_address *address) {
    memset(address, 0, sizeof *address);
    address->size = sizeof address->as;
    if (getsockname(fd, &address->as.any, &address->size) == 0)
        return MTASK_OK;
    address->size = 0;
    return MTASK_SYSTEM;
}

MTASK_API mtask_status mtask_io_peer(int fd, mtask_address *address) {
    memset(address, 0, sizeof *address);
    address->size = sizeof address->as;
    if (getpeername(fd, &address->as.any, &address->size) == 0)
        return MTASK_OK;
    address->size = 0;
    return MTASK_SYSTEM;
}

/* ---- >>tcp ---- */

static bool mtask__socket_set(int fd, int level, int option, int value) {
    return setsockopt(fd, level, option, &value, sizeof value) == 0;
}

static bool mtask__address_is_ip(const mtask_address *address) {
    return address->as.any.sa_family == AF_INET || address->as.any.sa_family == AF_INET6;
}

/* Closes it, keeping errno; it is no one's any more. */
static void mtask__fd_drop(int *fd) {
    int saved = errno;
    if (*fd >= 0)
        (void)mtask_io_close(*fd);
    *fd = -1;
    errno = saved;
}

/* A socket of mtask's own for such an address. */
static mtask_status mtask__socket_open(int *fd, const mtask_address *address, int type,
                                       mtask_word bits) {
    *fd = mtask__os_socket(address->as.any.sa_family, type);
    if (*fd < 0)
        return MTASK_SYSTEM;
    if (!mtask__address_is_ip(address))
        bits = 0;
    else if (type == SOCK_STREAM)
        (void)mtask__socket_set(*fd, IPPROTO_TCP, TCP_NODELAY,
                                1); /* what is accepted inherits it */
    return mtask__fd_keep(fd, MTASK__FD_SOCKET | bits);
}

/* Begins to connect: MTASK_OK, MTASK_EMPTY (going on), MTASK_FULL (the other end's backlog is; a
   Unix socket), MTASK_SYSTEM. */
static mtask_status mtask__connect_begin(int fd, const mtask_address *to) {
    if (connect(fd, &to->as.any, to->size) == 0)
        return MTASK_OK;
    if (errno == EINPROGRESS || errno == EINTR || errno == EALREADY)
        return MTASK_EMPTY;
    if (errno == EAGAIN)
        return MTASK_FULL;
    return MTASK_SYSTEM;
}

/* Whether it is connected, after it has become writable: as above. */
static mtask_status mtask__connect_check(int fd) {
    int error = 0;
    socklen_t size = sizeof error;
    mtask_address peer;
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) != 0)
        return MTASK_SYSTEM;
    if (error != 0) {
        errno = error;
        return MTASK_SYSTEM;
    }
    if (mtask_io_peer(fd, &peer) == MTASK_OK)
        return MTASK_OK;
    return errno == ENOTCONN ? MTASK_EMPTY : MTASK_SYSTEM;
}

/* Nobody can be waited for when a Unix socket's backlog is full: tries again, ever more slowly. */
static mtask_status mtask__connect_retry(mtask__op *op, const mtask_address *to) {
    int64_t nap = MTASK_US(100);
    mtask_status status = MTASK_FULL;
    while (status == MTASK_FULL) {
        int64_t left;
        status = mtask__op_count(op);
        if (status != MTASK_OK)
            return status;
        left = mtask_until(op->deadline);
        if (left == 0)
            return MTASK_TIMEOUT;
        status = mtask_sleep(nap < left ? nap : left);
        if (status != MTASK_OK)
            return status;
        status = mtask__connect_begin(op->fd, to);
        nap = nap < MTASK_MS(10) ? 2 * nap : nap;
    }
    return status;
}

static mtask_status mtask__connect(mtask__op *op, const mtask_address *to) {
    mtask_status status = mtask__connect_begin(op->fd, to);
    if (status == MTASK_FULL)
        status = mtask__connect_retry(op, to);
    while (status == MTASK_EMPTY) {
        status = mtask__op_wait(op);
        if (status == MTASK_OK)
            status = mtask__connect_check(op->fd);
    }
    return status;
}

MTASK_API mtask_status mtask_io_connect(int fd, const mtask_address *to, int64_t timeout) {
    mtask__op op;
    int flags = fcntl(fd, F_GETFL);
    bool blocks = flags >= 0 && (flags & O_NONBLOCK) == 0;
    int saved;
    mtask_status status = mtask__op_begin(&op, fd, MTASK_IO_WRITE, timeout);
    if (status != MTASK_OK)
        return status;
    if (flags < 0 || (blocks && fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0))
        return MTASK_SYSTEM;
    status = mtask__connect(&op, to);
    saved = errno;
    if (blocks && status != MTASK_BROKEN)
        (void)fcntl(fd, F_SETFL, flags);
    errno = saved;
    return status;
}

/* Some sockets that connect at the same time. */
typedef struct mtask__race {
    const mtask_address *addresses;
    size_t count;
    size_t begun;                            /* of them */
    int64_t next;                            /* when the next one begins, though none has failed */
    mtask_io_case cases[MTASK__LOOKUP_MOST]; /* those that are under way; others have fd -1 */
    mtask_word words[MTASK__LOOKUP_MOST];
    int error; /* of the last that failed */
    int won;   /* the first that is connected; -1: none */
} mtask__race;

# define MTASK__RACE_DELAY MTASK_MS(250)

static void mtask__race_fail(mtask__race *race, size_t i) {
    race->error = errno;
    mtask__fd_drop(&race->cases[i].fd);
    race->next = 0;
}

static void mtask__race_judge(mtask__race *race, size_t i, mtask_status status) {
    if (status == MTASK_OK) {
        race->won = race->cases[i].fd;
        race->cases[i].fd = -1;
    } else if (status != MTASK_EMPTY) {
        mtask__race_fail(race, i);
    }
}

/* Begins with the next address. MTASK_OK, MTASK_NOMEM. */
static mtask_status mtask__race_begin(mtask__race *race, int64_t timeout) {
    size_t i = race->begun++;
    mtask_io_case *one = &race->cases[i];
    const mtask_address *to = &race->addresses[i];
    mtask__op op;
    mtask_status status = mtask__socket_open(&one->fd, to, SOCK_STREAM, MTASK__FD_STREAM);
    race->next = mtask_now() + MTASK__RACE_DELAY;
    if (status == MTASK_OK) {
        one->events = MTASK_IO_WRITE;
        race->words[i] = mtask__fd_look(one->fd);
        status = mtask__connect_begin(one->fd, to);
        if (status == MTASK_FULL) {
            status = mtask__op_begin(&op, one->fd, MTASK_IO_WRITE, timeout);
            if (status == MTASK_OK)
                status = mtask__connect_retry(&op, to);
            if (status == MTASK_TIMEOUT || status == MTASK_CANCELED)
                return status;
        }
    }
    if (status == MTASK_NOMEM)
        return status;
    mtask__race_judge(race, i, status);
    return MTASK_OK;
}

static bool mtask__race_is_running(const mtask__race *race) {
    for (size_t i = 0; i < race->begun; i++)
        if (race->cases[i].fd >= 0)
            return true;
    return false;
}

/* Waits until one is connected or has failed, or it is time for the next. */
static mtask_status mtask__race_wait(mtask__race *race, int64_t deadline) {
    int64_t end = race->begun < race->count && race->next < deadline ? race->next : deadline;
    mtask_status status = mtask__io_await(race->cases, race->words, race->begun, end);
    if (status == MTASK_TIMEOUT && end != deadline)
        return MTASK_OK;
    for (size_t i = 0; status == MTASK_OK && i < race->begun && race->won < 0; i++)
        if (race->cases[i].fd >= 0 && race->cases[i].ready != 0)
            mtask__race_judge(race, i, mtask__connect_check(race->cases[i].fd));
    return status;
}

static mtask_status mtask__race_run(mtask__race *race, int64_t timeout, int64_t deadline) {
    mtask_status status = MTASK_OK;
    while (status == MTASK_OK && race->won < 0) {
        bool running = mtask__race_is_running(race);
        if (race->begun < race->count && (!running || race->next <= mtask_now())) {
            status = mtask__race_begin(race, timeout);
        } else if (running) {
            status = timeout == 0 ? MTASK_TIMEOUT : mtask__race_wait(race, deadline);
        } else {
            errno = race->error;
            return MTASK_SYSTEM;
        }
    }
    return status;
}

MTASK_API mtask_status mtask_tcp_connect(int *fd, const char *address, int64_t timeout) {
    mtask_address found[MTASK__LOOKUP_MOST];
    mtask__race race;
    int64_t deadline;
    mtask_status status = mtask__deadline(timeout, &deadline);
    *fd = -1;
    if (status != MTASK_OK)
        return status;
    memset(&race, 0, sizeof race);
    race.addresses = found;
    race.won = -1;
    for (size_t i = 0; i < MTASK__LOOKUP_MOST; i++)
        race.cases[i].fd = -1;
    status = mtask_resolve(address, found, MTASK__LOOKUP_MOST, &race.count, timeout);
    if (status == MTASK_OK)
        status = mtask__race_run(&race, timeout, deadline);
    for (size_t i = 0; i < race.begun; i++)
        mtask__fd_drop(&race.cases[i].fd);
    *fd = race.won;
    return status;
}

/* Whether nobody listens there any more. */
static bool mtask__path_is_stale(const mtask_address *address) {
    struct stat info;
    int probe;
    int refused;
    if (address->as.any.sa_family != AF_UNIX || address->as.path.sun_path[0] == '\0' ||
        lstat(address->as.path.sun_path, &info) != 0 || !S_ISSOCK(info.st_mode))
        return false;
    probe = mtask__os_socket(AF_UNIX, SOCK_STREAM);
    if (probe < 0)
        return false;
    do
        refused = connect(probe, &address->as.any, address->size);
    while (refused != 0 && errno == EINTR);
    refused = refused != 0 && errno == ECONNREFUSED;
    (void)close(probe);
    return refused;
}

/* Then its file goes away. */
static bool mtask__path_is_free(const mtask_address *address) {
    int saved = errno;
    bool gone = mtask__path_is_stale(address) && unlink(address->as.path.sun_path) == 0;
    errno = saved;
    return gone;
}

static bool mtask__listen_set(int fd, const mtask_address *address, const mtask_listen_desc *desc) {
    bool done = true;
    if (!mtask__address_is_ip(address))
        return true;
    done = mtask__socket_set(fd, SOL_SOCKET, SO_REUSEADDR, 1);
    if (address->as.any.sa_family == AF_INET6)
        done = mtask__socket_set(fd, IPPROTO_IPV6, IPV6_V6ONLY, desc->ip6_only) && done;
# ifdef SO_REUSEPORT
    if (desc->share_port)
        done = mtask__socket_set(fd, SOL_SOCKET, SO_REUSEPORT, 1) && done;
# endif
    return done;
}

static mtask_status mtask__listen_at(int *fd, const mtask_address *address,
                                     const mtask_listen_desc *desc) {
    mtask_status status = mtask__socket_open(fd, address, SOCK_STREAM, 0);
    if (status != MTASK_OK)
        return status;
    if (mtask__listen_set(*fd, address, desc) &&
        (bind(*fd, &address->as.any, address->size) == 0 ||
         (errno == EADDRINUSE && mtask__path_is_free(address) &&
          bind(*fd, &address->as.any, address->size) == 0)) &&
        listen(*fd, desc->backlog > 0 ? desc->backlog : SOMAXCONN) == 0)
        return MTASK_OK;
    mtask__fd_drop(fd);
    return MTASK_SYSTEM;
}

/* Of a name's addresses, the one to bind: IPv4 is what most clients try at last. */
static const mtask_address *mtask__listen_choose(const mtask_address *found, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (found[i].as.any.sa_family == AF_INET)
            return &found[i];
    return found;
}

MTASK_API mtask_status mtask_tcp_listen(int *fd, const char *address,
                                        const mtask_listen_desc *desc) {
    static const mtask_listen_desc usual = {0, false, false}; /* all default */
    mtask_address found[MTASK__LOOKUP_MOST];
    mtask_address any;
    struct in_addr ip4;
    size_t count;
    mtask_status status = mtask_resolve(address, found, MTASK__LOOKUP_MOST, &count, MTASK_FOREVER);
    *fd = -1;
    if (desc == NULL)
        desc = &usual;
    if (status != MTASK_OK)
        return status;
    any = *mtask__listen_choose(found, count);
    status = mtask__listen_at(fd, &any, desc);
    if (status == MTASK_SYSTEM && (errno == EAFNOSUPPORT || errno == EADDRNOTAVAIL) &&
        any.as.any.sa_family == AF_INET6 && IN6_IS_ADDR_UNSPECIFIED(&any.as.ip6.sin6_addr) &&
        address[0] != '[') { /* no IPv6 here */
        ip4.s_addr = htonl(INADDR_ANY);
        mtask__address_ip4(&any, ip4, mtask_address_port(&any));
        status = mtask__listen_at(fd, &any, desc);
    }
    return status;
}

/* Errors of one connection, not of the listening socket. */
static bool mtask__accept_is_passing(int error) {
    switch (error) {
    case ECONNABORTED:
    case ECONNRESET:
    case EPIPE:
    case ETIMEDOUT:
    case EPROTO:
    case ENETDOWN:
    case ENOPROTOOPT:
    case EHOSTDOWN:
    case EHOSTUNREACH:
    case ENETUNREACH:
# ifdef ENONET
    case ENONET:
# endif
        return true;
    default:
        return false;
    }
}

/* One try. */
static mtask_status mtask__accept_try(mtask__op *op, int *fd, mtask_address *peer) {
    mtask_word bits = MTASK__FD_SOCKET;
    mtask_status status = mtask__op_enter(op);
    if (status != MTASK_OK)
        return status;
    peer->size = sizeof peer->as;
    *fd = mtask__os_accept(op->fd, &peer->as.any, &peer->size);
    if (*fd >= 0) {
        if (mtask__address_is_ip(peer))
            bits |= MTASK__FD_STREAM;
        if ((bits & MTASK__FD_STREAM) != 0 && (op->word & MTASK__FD_OWN) == 0)
            (void)mtask__socket_set(*fd, IPPROTO_TCP, TCP_NODELAY, 1); /* others inherit it */
        return mtask__fd_keep(fd, bits);
    }
    if (mtask__accept_is_passing(errno))
        return MTASK_FULL;
    if (errno == ENOTSOCK)
        return MTASK_SYSTEM;
    status = mtask__op_failed(op);
    return status == MTASK_OK ? MTASK_FULL : status;
}

MTASK_API mtask_status mtask_tcp_accept(int listener, int *fd, mtask_address *peer,
                                        int64_t timeout) {
    mtask__op op;
    mtask_address own;
    mtask_status status = mtask__op_begin(&op, listener, MTASK_IO_READ, timeout);
    int flags = 0;
    *fd = -1;
    if (status == MTASK_OK && (op.word & MTASK__FD_OWN) == 0) {
        flags = fcntl(listener, F_GETFL);
        if (flags < 0)
            return MTASK_SYSTEM;
        op.gentle = (flags & O_NONBLOCK) == 0;
    }
    memset(&own, 0, sizeof own);
    while (status == MTASK_OK) {
        status = mtask__accept_try(&op, fd, &own);
        if (*fd >= 0)
            break;
        if (status == MTASK_EMPTY)
            status = mtask__op_wait(&op);
        else if (status == MTASK_FULL)
            status = MTASK_OK; /* the next one, perhaps */
    }
    if (peer != NULL)
        *peer = own;
    return status;
}

/* Binds and connects it; NULL: not. */
static mtask_status mtask__udp_set(int fd, const mtask_address *local,
                                   const mtask_address *remote) {
    if (local != NULL && bind(fd, &local->as.any, local->size) != 0)
        return MTASK_SYSTEM;
    if (remote != NULL && connect(fd, &remote->as.any, remote->size) != 0)
        return MTASK_SYSTEM;
    return MTASK_OK;
}

/* The addresses of both ends that are to be tried. */
typedef struct mtask__udp {
    mtask_address local[MTASK__LOOKUP_MOST];
    mtask_address remote[MTASK__LOOKUP_MOST];
    size_t locals;
    size_t remotes;
} mtask__udp;

/* "*:port" means all addresses of IPv4, too, where IPv6 is missing, or the other end's is of IPv4. */
static void mtask__udp_widen(mtask__udp *udp, const char *local) {
    struct in_addr any;
    if (udp->locals != 1 || local[0] == '[' || udp->local[0].as.any.sa_family != AF_INET6 ||
        !IN6_IS_ADDR_UNSPECIFIED(&udp->local[0].as.ip6.sin6_addr))
        return;
    any.s_addr = htonl(INADDR_ANY);
    mtask__address_ip4(&udp->local[1], any, mtask_address_port(&udp->local[0]));
    udp->locals = 2;
}

/* Looks both up (NULL: there is none). */
static mtask_status mtask__udp_resolve(mtask__udp *udp, const char *local, const char *remote,
                                       int64_t timeout) {
    int64_t deadline;
    mtask_status status = mtask__deadline(timeout, &deadline);
    udp->locals = udp->remotes = 0;
    if (status == MTASK_OK && local != NULL)
        status = mtask_resolve(local, udp->local, MTASK__LOOKUP_MOST, &udp->locals, timeout);
    if (status == MTASK_OK && local != NULL)
        mtask__udp_widen(udp, local);
    if (status == MTASK_OK && remote != NULL)
        status = mtask_resolve(remote, udp->remote, MTASK__LOOKUP_MOST, &udp->remotes,
                               mtask_until(deadline));
    return status;
}

static mtask_status mtask__udp_try(int *fd, const mtask_address *local,
                                   const mtask_address *remote) {
    mtask_status status = mtask__socket_open(fd, remote != NULL ? remote : local, SOCK_DGRAM, 0);
    if (status != MTASK_OK)
        return status;
    status = mtask__udp_set(*fd, local, remote);
    if (status != MTASK_OK)
        mtask__fd_drop(fd);
    return status;
}

MTASK_API mtask_status mtask_udp_open(int *fd, const char *local, const char *remote,
                                      int64_t timeout) {
    mtask__udp udp;
    mtask_status status = local != NULL || remote != NULL ? MTASK_OK : MTASK_INVALID;
    *fd = -1;
    if (status == MTASK_OK)
        status = mtask__udp_resolve(&udp, local, remote, timeout);
    if (status != MTASK_OK)
        return status;
    errno = EAFNOSUPPORT; /* unless there is a pair of one family */
    status = MTASK_SYSTEM;
    for (size_t i = 0; i < (local != NULL ? udp.locals : 1) && status == MTASK_SYSTEM; i++)
        for (size_t j = 0; j < (remote != NULL ? udp.remotes : 1) && status == MTASK_SYSTEM; j++)
            if (local == NULL || remote == NULL ||
                udp.local[i].as.any.sa_family == udp.remote[j].as.any.sa_family)
                status = mtask__udp_try(fd, local != NULL ? &udp.local[i] : NULL,
                                        remote != NULL ? &udp.remote[j] : NULL);
    return status;
}

MTASK_API mtask_status mtask_io_recvfrom(int fd, void *buffer, size_t capacity, size_t *count,
                                         mtask_address *from, int64_t timeout) {
    mtask__op op;
    struct msghdr message;
    struct iovec part;
    ssize_t got = -1;
    mtask_status status = mtask__op_begin(&op, fd, MTASK_IO_READ, timeout);
    part.iov_base = buffer;
    part.iov_len = capacity;
    while (status == MTASK_OK && got < 0) {
        mtask__message(&message, &part, 1);
        message.msg_name = from != NULL ? &from->as : NULL;
        message.msg_namelen = from != NULL ? sizeof from->as : 0;
        status = mtask__op_enter(&op);
        if (status == MTASK_OK) {
            got = recvmsg(fd, &message, MSG_DONTWAIT);
            if (got >= 0)
                break;
            status = errno == ENOTSOCK ? MTASK_SYSTEM : mtask__op_failed(&op);
        }
        if (status == MTASK_EMPTY)
            status = mtask__op_wait(&op);
    }
    if (from != NULL)
        from->size = status == MTASK_OK ? message.msg_namelen : 0;
    if (count != NULL)
        *count = status == MTASK_OK ? (size_t)got : 0;
    if (status == MTASK_OK && (op.word & MTASK__FD_STREAM) != 0 && got == 0 && capacity > 0)
        return MTASK_CLOSED;
    return status == MTASK_OK && (message.msg_flags & MSG_TRUNC) != 0 ? MTASK_OVERFLOW : status;
}

MTASK_API mtask_status mtask_io_sendto(int fd, const void *data, size_t size,
                                       const mtask_address *to, int64_t timeout) {
    mtask__op op;
    mtask_status status = mtask__op_begin(&op, fd, MTASK_IO_WRITE, timeout);
    while (status == MTASK_OK) {
        status = mtask__op_enter(&op);
        if (status == MTASK_OK) {
            if (sendto(fd, data, size, MSG_DONTWAIT | MSG_NOSIGNAL, to != NULL ? &to->as.any : NULL,
                       to != NULL ? to->size : 0) >= 0)
                return MTASK_OK;
            status = errno == ENOTSOCK ? MTASK_SYSTEM : mtask__op_failed(&op);
        }
        if (status == MTASK_EMPTY)
            status = mtask__op_wait(&op);
    }
    return status;
}

/* ---- >>stream ---- */

struct mtask__part;

/* A stream. What is said to be of its input is its reader's; of its output, of who holds `writing`. */
struct mtask_stream {
    int fd;          /* -1: closed; others may look while it is closed */
    int number;      /* what that was */
    mtask_word word; /* of the descriptor: if it is closed, the number may be another's */
    size_t held;     /* bytes of output in the buffer; its reader looks while others write */
    size_t buffer;
    size_t limit;
    char *in; /* the input's buffer; NULL: none */
    size_t in_size;
    size_t begin; /* what is in it */
    size_t end;
    mtask_status ended; /* of the input: MTASK_OK, MTASK_CLOSED, or MTASK_BROKEN */
    int ended_error;    /* errno of that */
    char *out;          /* the output's buffer, of `buffer` bytes; NULL: none */
    size_t out_begin;   /* what is in it */
    size_t out_end;
    mtask_mutex writing;
    mtask_status broken; /* the output: MTASK_OK, or why nothing can be written any more */
    int broken_error;
    /* Of the loop whose tasks use it; NULL: none. The loop's thread writes it: NULL under the
       process's lock, so that who has that may use it. */
    mtask__io *io;
    struct mtask_stream *next; /* in the list of all streams of that loop */
    struct mtask_stream *prev;
    bool
        entrusted; /* another thread has left what is held back to the loop; guarded by the process's lock */
    struct mtask_stream *entrusted_next;
    bool unsent; /* it is in the loop's list of those that hold something back */
    struct mtask_stream *unsent_next;
    struct mtask_stream *unsent_prev;
    struct mtask__part *part; /* whose handler has it; NULL: none */
    struct mtask_stream *part_next;
    struct mtask_stream *part_prev;
    bool idle; /* its reader waits between two requests */
};

static int mtask__stream_number(const mtask_stream *stream) {
    return mtask__load(&stream->fd, RELAXED); /* pairs with mtask__stream_shut */
}

/* The loop of the calling task; NULL: a thread. */
static mtask__io *mtask__io_here(void) {
    const mtask__strand *self = mtask__io_self();
    return self != NULL ? mtask__io_of(self->loop) : NULL;
}

static char *mtask__buffer_take(mtask__io *io, size_t size) {
    mtask__spare *spare = io != NULL && size == MTASK_STREAM_BUFFER ? io->spare : NULL;
    if (spare == NULL)
        return (char *)MTASK_MALLOC(size);
    io->spare = spare->next;
    io->spares--;
    return (char *)spare;
}

static void mtask__buffer_give(mtask__io *io, char *buffer, size_t size) {
    mtask__spare *spare = (mtask__spare *)(void *)buffer;
    if (buffer == NULL || io == NULL || size != MTASK_STREAM_BUFFER ||
        io->spares == MTASK__IO_SPARES) {
        MTASK_FREE(buffer);
        return;
    }
    spare->next = io->spare;
    io->spare = spare;
    io->spares++;
}

/* For other threads than its loop's it is a hint. */
static mtask__io *mtask__stream_io(const mtask_stream *stream) {
    return mtask__load(&stream->io, RELAXED); /* see its declaration */
}

/* Takes it out of the list of those that hold something back. */
static void mtask__stream_unlist(mtask_stream *stream) {
    if (!stream->unsent)
        return;
    stream->unsent = false;
    if (stream->unsent_next != NULL)
        stream->unsent_next->unsent_prev = stream->unsent_prev;
    if (stream->unsent_prev != NULL)
        stream->unsent_prev->unsent_next = stream->unsent_next;
    else
        mtask__stream_io(stream)->unsent = stream->unsent_next;
}

static void mtask__stream_list(mtask_stream *stream) {
    if (stream->unsent)
        return;
    stream->unsent = true;
    stream->unsent_prev = NULL;
    stream->unsent_next = mtask__stream_io(stream)->unsent;
    if (stream->unsent_next != NULL)
        stream->unsent_next->unsent_prev = stream;
    mtask__stream_io(stream)->unsent = stream;
}

/* Takes it from the loop: also what other threads left to it. */
static void mtask__stream_free_from(mtask_stream *stream, mtask__io *io) {
    mtask_stream **place = &io->entrusted;
    mtask__lock(&mtask__io_process.lock);
    if (stream->entrusted) {
        while (*place != stream)
            place = &(*place)->entrusted_next;
        *place = stream->entrusted_next;
        stream->entrusted = false;
    }
    mtask__store(&stream->io, (mtask__io *)NULL, RELAXED); /* ordered by the lock */
    mtask__unlock(&mtask__io_process.lock);
}

/* Leaves what it holds to its loop; in another thread. */
static void mtask__stream_entrust(mtask_stream *stream) {
    mtask__io *io;
    mtask__lock(&mtask__io_process.lock);
    io = mtask__stream_io(stream);
    if (io != NULL && !stream->entrusted) {
        stream->entrusted = true;
        stream->entrusted_next = io->entrusted;
        io->entrusted = stream;
        (void)mtask_loop_post(io->loop, &io->entrust);
    }
    mtask__unlock(&mtask__io_process.lock);
}

/* On the loop: it sends these, too. */
static void mtask__io_entrusted(void *arg) {
    mtask__io *io = (mtask__io *)arg;
    mtask_stream *next;
    mtask_stream *stream;
    mtask__lock(&mtask__io_process.lock);
    stream = io->entrusted;
    io->entrusted = NULL;
    for (; stream != NULL; stream = next) {
        next = stream->entrusted_next;
        stream->entrusted = false;
        mtask__stream_list(stream);
    }
    mtask__unlock(&mtask__io_process.lock);
}

/* It belongs to no loop any more; on that loop's thread. */
static void mtask__stream_leave(mtask_stream *stream) {
    mtask__io *io = mtask__stream_io(stream);
    mtask__record *record;
    if (io == NULL)
        return;
    mtask__stream_unlist(stream);
    record = (size_t)stream->number < io->capacity ? &io->records[stream->number] : NULL;
    if (record != NULL && record->sender == stream)
        record->sender = NULL;
    if (stream->next != NULL)
        stream->next->prev = stream->prev;
    if (stream->prev != NULL)
        stream->prev->next = stream->next;
    else
        io->streams = stream->next;
    mtask__stream_free_from(stream, io);
}

/* A task uses it: it belongs to that task's loop from now on, unless it belongs to one. */
static void mtask__stream_join(mtask_stream *stream, mtask__io *io) {
    bool first;
    if (io == NULL || mtask__stream_io(stream) != NULL)
        return;
    mtask__lock(&mtask__io_process.lock);
    first = mtask__stream_io(stream) == NULL; /* tasks of two loops may begin with it */
    if (first)
        mtask__store(&stream->io, io, RELAXED); /* ordered by the lock */
    mtask__unlock(&mtask__io_process.lock);
    if (!first)
        return;
    stream->prev = NULL;
    stream->next = io->streams;
    if (stream->next != NULL)
        stream->next->prev = stream;
    io->streams = stream;
    mtask__fence(); /* pairs with mtask__stream_unlock: that sees the loop, or this what is held */
    if (mtask__load(&stream->held, RELAXED) > 0)
        mtask__stream_list(stream);
}

MTASK_API mtask_status mtask_stream_open(mtask_stream **stream, int fd,
                                         const mtask_stream_desc *desc) {
    mtask_stream *made = (mtask_stream *)MTASK_MALLOC(sizeof *made);
    mtask_status status = made != NULL ? mtask_io_adopt(fd) : MTASK_NOMEM;
    *stream = NULL;
    if (status != MTASK_OK) {
        MTASK_FREE(made);
        return status;
    }
    memset((void *)made, 0, sizeof *made);
    made->fd = made->number = fd;
    made->word = mtask__fd_look(fd);
    made->buffer = desc != NULL && desc->buffer != 0 ? desc->buffer : MTASK_STREAM_BUFFER;
    made->limit = desc != NULL && desc->limit != 0 ? desc->limit : MTASK_STREAM_LIMIT;
    if (made->limit > SIZE_MAX / 4)
        made->limit = SIZE_MAX / 4; /* so that sums with it do not overflow */
    mtask__stream_join(made, mtask__io_here());
    *stream = made;
    return MTASK_OK;
}

MTASK_API mtask_status mtask_stream_connect(mtask_stream **stream, const char *address,
                                            const mtask_stream_desc *desc, int64_t timeout) {
    int fd;
    mtask_status status = mtask_tcp_connect(&fd, address, timeout);
    *stream = NULL;
    if (status == MTASK_OK) {
        status = mtask_stream_open(stream, fd, desc);
        if (status != MTASK_OK)
            mtask__fd_drop(&fd);
    }
    return status;
}

MTASK_API int mtask_stream_fd(const mtask_stream *stream) {
    return mtask__stream_number(stream);
}

/* Begins a call on it. */
static mtask_status mtask__stream_begin(mtask_stream *stream, mtask__op *op, unsigned event,
                                        int64_t timeout) {
    mtask_status status = mtask__op_begin(op, mtask__stream_number(stream), event, timeout);
    if (status == MTASK_OK && mtask__stream_number(stream) < 0) {
        errno = EBADF;
        status = MTASK_BROKEN;
    }
    op->word = stream->word;
    if (status == MTASK_OK)
        mtask__stream_join(stream, op->io);
    return status;
}

/* ---- >>stream-out ---- */

/* For who does not hold `writing` it is a hint. */
static size_t mtask__stream_held(const mtask_stream *stream) {
    return mtask__load(&stream->held, RELAXED); /* pairs with mtask__stream_hold */
}

static void mtask__stream_hold(mtask_stream *stream, size_t begin, size_t end) {
    stream->out_begin = begin;
    stream->out_end = end;
    mtask__store(&stream->held, end - begin, RELAXED); /* pairs with mtask__stream_held */
}

/* The output is broken, for good. */
static mtask_status mtask__stream_fail(mtask_stream *stream, mtask_status status) {
    if (status == MTASK_TIMEOUT || status == MTASK_CANCELED)
        errno = status == MTASK_TIMEOUT ? ETIMEDOUT : ECANCELED;
    else if (status == MTASK_NOMEM)
        errno = ENOMEM;
    stream->broken = status == MTASK_SYSTEM ? MTASK_SYSTEM : MTASK_BROKEN;
    stream->broken_error = errno;
    mtask__stream_hold(stream, 0, 0);
    return status;
}

static mtask_status mtask__stream_is_broken(const mtask_stream *stream) {
    if (stream->broken != MTASK_OK)
        errno = stream->broken_error;
    return stream->broken;
}

/* So much of what it holds was sent. */
static void mtask__stream_sent(mtask_stream *stream, mtask__io *io, size_t size) {
    mtask__stream_hold(stream, stream->out_begin + size, stream->out_end);
    if (mtask__stream_held(stream) > 0)
        return;
    mtask__stream_hold(stream, 0, 0);
    mtask__buffer_give(io, stream->out, stream->buffer);
    stream->out = NULL;
}

/* Sends of what it holds what the system takes at once: MTASK_EMPTY: not all. */
static mtask_status mtask__stream_try_send(mtask_stream *stream, mtask__op *op) {
    mtask_status status = mtask__stream_is_broken(stream);
    while (status == MTASK_OK && mtask__stream_held(stream) > 0) {
        struct iovec part;
        size_t sent;
        part.iov_base = stream->out + stream->out_begin;
        part.iov_len = mtask__stream_held(stream);
        status = mtask__op_try_write(op, &part, 1, part.iov_len, &sent);
        if (status == MTASK_OK)
            mtask__stream_sent(stream, op->io, sent);
        else if (status != MTASK_EMPTY)
            (void)mtask__stream_fail(stream, status);
    }
    return status;
}

/* The loop itself sends what it can; the rest when there is room. */
static void mtask__stream_push(mtask_stream *stream) {
    mtask__io *io = mtask__stream_io(stream);
    mtask__record *record;
    mtask__op op;
    mtask_status status = MTASK_OK;
    int saved = errno;
    if (mtask__stream_number(stream) < 0 ||
        mtask_mutex_lock_for(&stream->writing, MTASK_NOWAIT) != MTASK_OK)
        return; /* who writes sends all, or leaves it to the loop again */
    mtask__op_init(&op, stream->number, MTASK_IO_WRITE, MTASK_NOWAIT);
    op.word = stream->word;
    op.io = io;
    if (mtask__stream_try_send(stream, &op) == MTASK_EMPTY)
        status = mtask__io_watch(io, op.fd, op.word);
    if (status != MTASK_OK) /* nothing will tell when there is room */
        (void)mtask__stream_fail(stream, status);
    record = mtask__io_watched(io, op.fd, op.word);
    if (record != NULL && (record->sender != NULL || mtask__stream_held(stream) > 0)) {
        record->sender = mtask__stream_held(stream) > 0 ? stream : NULL;
        if (record->sender != NULL)
            record->ready = (unsigned char)(record->ready & ~MTASK__POLL_WRITE);
        mtask__io_want(io, op.fd);
    }
    (void)mtask_mutex_unlock(&stream->writing);
    errno = saved;
}

/* Lets go of the output. What is still held back then, whatever has become of the call, is the
   loop's to send: also what others left to the caller, since they could not lock it. */
static void mtask__stream_unlock(mtask_stream *stream, const mtask__op *op) {
    bool held = mtask__stream_held(stream) > 0;
    mtask__io *io = mtask__stream_io(stream);
    (void)mtask_mutex_unlock(&stream->writing);
    if (!held || mtask__stream_number(stream) < 0)
        return;
    if (io == NULL) {
        mtask__fence(); /* pairs with mtask__stream_join */
        io = mtask__stream_io(stream);
    }
    if (io != NULL && io == op->io)
        mtask__stream_list(stream);
    else if (io != NULL)
        mtask__stream_entrust(stream);
}

static void mtask__io_flush(mtask_loop *loop) {
    mtask__io *io = (mtask__io *)(void *)loop->io;
    while (io->unsent != NULL) {
        mtask_stream *stream = io->unsent;
        mtask__stream_unlist(stream);
        if (mtask__stream_held(stream) > 0)
            mtask__stream_push(stream);
    }
}

/* One writer at a time. */
static mtask_status mtask__stream_lock(mtask_stream *stream, mtask__op *op) {
    mtask_status status = mtask_mutex_lock_for(&stream->writing, MTASK_NOWAIT);
    if (status == MTASK_TIMEOUT) {
        status = mtask__op_count(op);
        if (status == MTASK_OK)
            status = mtask_mutex_lock_for(&stream->writing, mtask_until(op->deadline));
    }
    if (status == MTASK_OK && mtask__stream_number(stream) < 0) {
        (void)mtask_mutex_unlock(&stream->writing);
        errno = EBADF;
        status = MTASK_BROKEN;
    }
    return status;
}

/* Begins a call that writes: with the lock. */
static mtask_status mtask__stream_begin_write(mtask_stream *stream, mtask__op *op,
                                              int64_t timeout) {
    mtask_status status = mtask__stream_begin(stream, op, MTASK_IO_WRITE, timeout);
    return status == MTASK_OK ? mtask__stream_lock(stream, op) : status;
}

/* Sends all that it holds. */
static mtask_status mtask__stream_send(mtask_stream *stream, mtask__op *op) {
    mtask_status status = mtask__stream_try_send(stream, op);
    while (status == MTASK_EMPTY) {
        status = mtask__op_wait(op);
        if (status == MTASK_OK)
            status = mtask__stream_try_send(stream, op);
        else if (status == MTASK_BROKEN)
            (void)mtask__stream_fail(stream, status);
    }
    return status;
}

/* Sends what it holds and of the pieces what does not fit into the buffer then. */
static mtask_status mtask__stream_overflow(mtask_stream *stream, mtask__op *op,
                                           mtask__pieces *pieces) {
    size_t all = pieces->left;
    mtask_status status = MTASK_OK;
    while (status == MTASK_OK && mtask__stream_held(stream) + pieces->left > stream->buffer) {
        struct iovec parts[MTASK__IO_PARTS];
        size_t held = mtask__stream_held(stream);
        size_t asked;
        size_t sent;
        int first = held > 0;
        int n = mtask__pieces_copy(pieces, parts + first, MTASK__IO_PARTS - first, &asked) + first;
        parts[0].iov_base = first ? stream->out + stream->out_begin : parts[0].iov_base;
        parts[0].iov_len = first ? held : parts[0].iov_len;
        status = mtask__op_try_write(op, parts, n, asked + held, &sent);
        if (status == MTASK_OK && held > 0)
            mtask__stream_sent(stream, op->io, sent < held ? sent : held);
        if (status == MTASK_OK && sent > held)
            mtask__pieces_skip(pieces, sent - held);
        if (status == MTASK_EMPTY)
            status = mtask__op_wait(op);
    }
    if (status == MTASK_BROKEN || status == MTASK_SYSTEM ||
        (status != MTASK_OK && pieces->left < all))
        (void)mtask__stream_fail(stream, status);
    return status;
}

/* Puts what is left into the buffer. */
static mtask_status mtask__stream_append(mtask_stream *stream, mtask__io *io,
                                         mtask__pieces *pieces) {
    if (pieces->left == 0)
        return MTASK_OK;
    if (stream->out == NULL && (stream->out = mtask__buffer_take(io, stream->buffer)) == NULL)
        return MTASK_NOMEM;
    if (stream->out_end + pieces->left > stream->buffer) {
        size_t held = mtask__stream_held(stream);
        memmove(stream->out, stream->out + stream->out_begin, held);
        mtask__stream_hold(stream, 0, held);
    }
    for (int i = 0; i < pieces->n; i++) {
        size_t offset = i == 0 ? pieces->offset : 0;
        size_t size = pieces->parts[i].iov_len - offset;
        if (size > 0)
            memcpy(stream->out + stream->out_end, (const char *)pieces->parts[i].iov_base + offset,
                   size);
        mtask__stream_hold(stream, stream->out_begin, stream->out_end + size);
    }
    pieces->left = 0;
    return MTASK_OK;
}

/* With the lock. */
static mtask_status mtask__stream_put(mtask_stream *stream, mtask__op *op, mtask__pieces *pieces) {
    size_t all = pieces->left;
    mtask_status status = mtask__stream_is_broken(stream);
    if (status == MTASK_OK && mtask__stream_held(stream) + pieces->left > stream->buffer)
        status = mtask__stream_overflow(stream, op, pieces);
    if (status == MTASK_OK) {
        status = mtask__stream_append(stream, op->io, pieces);
        if (status != MTASK_OK && pieces->left < all)
            (void)mtask__stream_fail(stream, status);
    }
    if (status == MTASK_OK && mtask__stream_io(stream) != NULL &&
        mtask__stream_io(stream) != op->io)
        (void)mtask__stream_try_send(stream, op); /* its loop would do it, but later */
    return status;
}

MTASK_API mtask_status mtask_stream_writev(mtask_stream *stream, const struct iovec *parts, int n,
                                           int64_t timeout) {
    mtask__op op;
    mtask__pieces pieces;
    mtask_status status = mtask__pieces_init(&pieces, parts, n);
    if (status == MTASK_OK)
        status = mtask__stream_begin_write(stream, &op, timeout);
    if (status != MTASK_OK)
        return status;
    status = mtask__stream_put(stream, &op, &pieces);
    mtask__stream_unlock(stream, &op);
    return status;
}

MTASK_API mtask_status mtask_stream_write(mtask_stream *stream, const void *data, size_t size,
                                          int64_t timeout) {
    struct iovec part;
    part.iov_base = (void *)(uintptr_t)data;
    part.iov_len = size;
    return mtask_stream_writev(stream, &part, 1, timeout);
}

MTASK_API mtask_status mtask_stream_printf(mtask_stream *stream, int64_t timeout,
                                           const char *format, ...) {
    char text[256];
    char *all = text;
    va_list args;
    int size;
    mtask_status status;
    va_start(args, format);
    size = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (size < 0)
        return MTASK_INVALID;
    if ((size_t)size >= sizeof text) {
        all = (char *)MTASK_MALLOC((size_t)size + 1);
        if (all == NULL)
            return MTASK_NOMEM;
        va_start(args, format);
        size = vsnprintf(all, (size_t)size + 1, format, args);
        va_end(args);
    }
    status = size < 0 ? MTASK_INVALID : mtask_stream_write(stream, all, (size_t)size, timeout);
    if (all != text)
        MTASK_FREE(all);
    return status;
}

MTASK_API mtask_status mtask_stream_drain(mtask_stream *stream, int64_t timeout) {
    mtask__op op;
    mtask_status status = mtask__stream_begin_write(stream, &op, timeout);
    if (status != MTASK_OK)
        return status;
    status = mtask__stream_send(stream, &op);
    mtask__stream_unlock(stream, &op);
    return status;
}

MTASK_API size_t mtask_stream_pending(const mtask_stream *stream) {
    return mtask__stream_held(stream);
}

MTASK_API mtask_status mtask_stream_sendfile(mtask_stream *stream, int file, int64_t offset,
                                             size_t size, int64_t timeout) {
    mtask__op op;
    size_t sent = 0;
    mtask_status status = mtask__stream_begin_write(stream, &op, timeout);
    if (status != MTASK_OK)
        return status;
    status = mtask__stream_send(stream, &op);
    if (status == MTASK_OK && size > 0) {
        status = mtask_io_sendfile(mtask__stream_number(stream), file, offset, size, &sent,
                                   op.counted ? mtask_until(op.deadline) : timeout);
        if (status != MTASK_OK && status != MTASK_CLOSED && (sent > 0 || status == MTASK_BROKEN))
            (void)mtask__stream_fail(stream, status);
    }
    mtask__stream_unlock(stream, &op);
    return status;
}

MTASK_API mtask_status mtask_stream_shutdown(mtask_stream *stream, int64_t timeout) {
    mtask_status status = mtask_stream_drain(stream, timeout);
    if (status != MTASK_OK || shutdown(mtask__stream_number(stream), SHUT_WR) == 0)
        return status;
    if (errno == ENOTCONN)
        return MTASK_BROKEN;
    return errno == ENOTSOCK || errno == EOPNOTSUPP ? MTASK_UNSUPPORTED : MTASK_SYSTEM;
}

/* Closes its descriptor. Its buffers stay: somebody may be about to find out. In another thread
   than its loop's, it stays in that loop's lists. */
static void mtask__stream_shut(mtask_stream *stream) {
    int fd = mtask__stream_number(stream);
    const mtask_loop *loop = mtask_loop_current();
    if (loop != NULL && loop->io != NULL && mtask__stream_io(stream) != NULL &&
        &mtask__stream_io(stream)->base == loop->io)
        mtask__stream_leave(stream);
    mtask__store(&stream->fd, -1, RELAXED); /* pairs with mtask__stream_number: a hint */
    mtask__fd_drop(&fd);
}

MTASK_API mtask_status mtask_stream_close(mtask_stream *stream, int64_t timeout) {
    mtask_status status;
    if (timeout < 0)
        return MTASK_INVALID;
    if (mtask__stream_number(stream) < 0)
        return MTASK_OK;
    status = mtask__stream_is_broken(stream);
    if (status == MTASK_OK)
        status = mtask_stream_drain(stream, timeout);
    if (mtask__stream_number(stream) >= 0)
        mtask__stream_shut(stream);
    return status;
}

MTASK_API void mtask_stream_abort(mtask_stream *stream) {
    struct linger linger;
    int saved = errno;
    if (mtask__stream_number(stream) < 0)
        return;
    linger.l_onoff = 1;
    linger.l_linger = 0;
    (void)setsockopt(mtask__stream_number(stream), SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
    errno = saved;
    mtask__stream_shut(stream);
}

MTASK_API void mtask_stream_destroy(mtask_stream *stream) {
    mtask__io *io;
    if (stream == NULL)
        return;
    io = mtask__coro_me()->loop != NULL ? (mtask__io *)(void *)mtask__coro_me()->loop->io : NULL;
    if (mtask__stream_number(stream) >= 0)
        mtask__stream_shut(stream);
    mtask__stream_leave(stream);
    mtask__buffer_give(io, stream->in, stream->in_size);
    mtask__buffer_give(io, stream->out, stream->buffer);
    MTASK_FREE(stream);
}

/* ---- >>stream-in ---- */

static size_t mtask__stream_has(const mtask_stream *stream) {
    return stream->end - stream->begin;
}

/* Room to read into, behind what there is, so that `least` bytes and a closing zero have room in
   all. */
static mtask_status mtask__stream_room(mtask_stream *stream, mtask__io *io, size_t least) {
    size_t has = mtask__stream_has(stream);
    size_t size = stream->in == NULL ? stream->buffer : stream->in_size;
    char *made;
    if (stream->begin == stream->end)
        stream->begin = stream->end = 0;
    if (stream->in != NULL && stream->begin + least < stream->in_size &&
        stream->begin <= stream->in_size / 2 && stream->end + 1 < stream->in_size)
        return MTASK_OK;
    if (stream->in != NULL && least < stream->in_size) {
        memmove(stream->in, stream->in + stream->begin, has);
        stream->begin = 0;
        stream->end = has;
        return MTASK_OK;
    }
    while (size <= least)
        size *= 2;
    made = mtask__buffer_take(io, size);
    if (made == NULL)
        return MTASK_NOMEM;
    if (has > 0)
        memcpy(made, stream->in + stream->begin, has);
    mtask__buffer_give(io, stream->in, stream->in_size);
    stream->in = made;
    stream->in_size = size;
    stream->begin = 0;
    stream->end = has;
    return MTASK_OK;
}

/* Before its reader waits: what was written goes out, since that may be what the other end waits
   for; and an empty buffer can serve others meanwhile. True: something is still held back, and
   nobody but the caller will send it. */
static bool mtask__stream_pause(mtask_stream *stream, const mtask__op *in) {
    bool held = false;
    mtask__op op;
    if (mtask__stream_held(stream) > 0 && mtask__stream_io(stream) != NULL &&
        mtask__stream_io(stream) == in->io) {
        mtask__stream_push(stream);
    } else if (mtask__stream_held(stream) > 0 &&
               mtask_mutex_lock_for(&stream->writing, MTASK_NOWAIT) == MTASK_OK) {
        int saved = errno;
        if (mtask__stream_begin(stream, &op, MTASK_IO_WRITE, MTASK_NOWAIT) == MTASK_OK)
            held = mtask__stream_try_send(stream, &op) == MTASK_EMPTY;
        (void)mtask_mutex_unlock(&stream->writing);
        errno = saved;
    }
    if (stream->in != NULL && stream->begin == stream->end) {
        mtask__buffer_give(in->io, stream->in, stream->in_size);
        stream->in = NULL;
        stream->begin = stream->end = 0;
    }
    return held;
}

static bool mtask__stream_must_stop(const mtask_stream *stream);

/* Waits until there may be input. */
static mtask_status mtask__stream_await(mtask_stream *stream, mtask__op *op) {
    mtask_status status;
    if (op->timeout == 0)
        return MTASK_TIMEOUT;
    if (mtask__stream_pause(stream, op))
        op->event = MTASK_IO_READ | MTASK_IO_WRITE;
    status = mtask__stream_must_stop(stream) ? MTASK_CLOSED : mtask__op_wait(op);
    op->event = MTASK_IO_READ;
    if (status == MTASK_BROKEN && mtask__stream_must_stop(stream))
        status = MTASK_CLOSED;
    return status;
}

/* Reads some more, so that `least` bytes have room. */
static mtask_status mtask__stream_more(mtask_stream *stream, mtask__op *op, size_t least) {
    mtask_status status = stream->ended;
    if (status != MTASK_OK) {
        errno = stream->ended_error;
        return status;
    }
    for (bool ready = !mtask__op_is_idle(op);; ready = true) {
        struct iovec part;
        size_t got = 0;
        status = MTASK_EMPTY;
        if (ready) {
            status = mtask__stream_room(stream, op->io, least);
            if (status != MTASK_OK)
                return status;
            part.iov_base = stream->in + stream->end;
            part.iov_len = stream->in_size - stream->end - 1;
            status = mtask__op_try_read(op, &part, 1, part.iov_len, &got);
            stream->end += got;
            if (status == MTASK_CLOSED || (status == MTASK_BROKEN && errno != EBADF)) {
                stream->ended = status;
                stream->ended_error = errno;
            }
        }
        if (status != MTASK_EMPTY)
            return status;
        status = mtask__stream_await(stream, op);
        if (status != MTASK_OK)
            return status;
    }
}

/* Begins a call that reads. It may still take what was read before the stream was closed. */
static mtask_status mtask__stream_begin_read(mtask_stream *stream, mtask__op *op, int64_t timeout) {
    mtask_status status = mtask__stream_begin(stream, op, MTASK_IO_READ, timeout);
    if (status != MTASK_BROKEN || mtask__stream_has(stream) == 0)
        return status;
    if (stream->ended == MTASK_OK) { /* what was read before it was closed can be had */
        stream->ended = MTASK_BROKEN;
        stream->ended_error = EBADF;
    }
    return MTASK_OK;
}

static void mtask__stream_show(const mtask_stream *stream, const char **data, size_t *size) {
    *data = stream->in != NULL ? stream->in + stream->begin : "";
    *size = mtask__stream_has(stream);
}

MTASK_API mtask_status mtask_stream_fill(mtask_stream *stream, size_t least, const char **data,
                                         size_t *size, int64_t timeout) {
    mtask__op op;
    mtask_status status = MTASK_OK;
    if (timeout < 0 || least > stream->limit)
        status = timeout < 0 ? MTASK_INVALID : MTASK_OVERFLOW;
    else if (mtask__stream_has(stream) < least)
        status = mtask__stream_begin_read(stream, &op, timeout);
    while (status == MTASK_OK && mtask__stream_has(stream) < least)
        status = mtask__stream_more(stream, &op, least);
    mtask__stream_show(stream, data, size);
    return status;
}

MTASK_API mtask_status mtask_stream_skip(mtask_stream *stream, size_t size) {
    if (size > mtask__stream_has(stream))
        return MTASK_INVALID;
    stream->begin += size;
    return MTASK_OK;
}

/* Takes what is in the buffer, at most `capacity` bytes; returns how many. */
static size_t mtask__stream_take(mtask_stream *stream, void *buffer, size_t capacity) {
    size_t has = mtask__stream_has(stream);
    size_t size = has < capacity ? has : capacity;
    if (size > 0)
        memcpy(buffer, stream->in + stream->begin, size);
    stream->begin += size;
    return size;
}

/* Reads, past the buffer, which is empty; at least one byte. */
static mtask_status mtask__stream_direct(mtask_stream *stream, mtask__op *op, char *buffer,
                                         size_t capacity, size_t *got) {
    mtask_status status = stream->ended;
    if (status != MTASK_OK)
        errno = stream->ended_error;
    while (status == MTASK_OK) {
        struct iovec part;
        part.iov_base = buffer;
        part.iov_len = capacity;
        status = mtask__op_try_read(op, &part, 1, capacity, got);
        if (status == MTASK_CLOSED || (status == MTASK_BROKEN && errno != EBADF)) {
            stream->ended = status;
            stream->ended_error = errno;
        }
        if (status != MTASK_EMPTY)
            break;
        status = mtask__stream_await(stream, op);
    }
    return status;
}

/* Reads some, at least one byte: large reads go where they are wanted, small ones by the buffer. */
static mtask_status mtask__stream_some(mtask_stream *stream, mtask__op *op, char *buffer,
                                       size_t capacity, size_t *got) {
    mtask_status status = MTASK_OK;
    *got = 0;
    if (mtask__stream_has(stream) == 0 && capacity >= stream->buffer)
        return mtask__stream_direct(stream, op, buffer, capacity, got);
    if (mtask__stream_has(stream) == 0)
        status = mtask__stream_more(stream, op, 1);
    if (status == MTASK_OK)
        *got = mtask__stream_take(stream, buffer, capacity);
    return status;
}

MTASK_API mtask_status mtask_stream_read(mtask_stream *stream, void *buffer, size_t capacity,
                                         size_t *count, int64_t timeout) {
    mtask__op op;
    size_t got = 0;
    mtask_status status = timeout < 0 ? MTASK_INVALID : MTASK_OK;
    if (status == MTASK_OK && capacity > 0)
        status = mtask__stream_begin_read(stream, &op, timeout);
    if (status == MTASK_OK && capacity > 0)
        status = mtask__stream_some(stream, &op, (char *)buffer, capacity, &got);
    if (count != NULL)
        *count = got;
    return status;
}

MTASK_API mtask_status mtask_stream_read_exactly(mtask_stream *stream, void *buffer, size_t size,
                                                 size_t *count, int64_t timeout) {
    mtask__op op;
    size_t done = 0;
    mtask_status status = timeout < 0 ? MTASK_INVALID : MTASK_OK;
    if (status == MTASK_OK && size > 0)
        status = mtask__stream_begin_read(stream, &op, timeout);
    while (status == MTASK_OK && done < size) {
        size_t got;
        status = mtask__stream_some(stream, &op, (char *)buffer + done, size - done, &got);
        done += got;
    }
    if (count != NULL)
        *count = done;
    return status;
}

/* Finds the mark in what there is; `seen` bytes were searched before. SIZE_MAX: it is not there. */
static size_t mtask__stream_find(const mtask_stream *stream, const void *mark, size_t length,
                                 size_t *seen) {
    size_t has = mtask__stream_has(stream);
    size_t from = *seen >= length ? *seen - length + 1 : 0;
    const char *begin = stream->in + stream->begin;
    const char *found = NULL;
    if (has >= from + length)
        found = (const char *)(length == 1 ? memchr(begin + from, *(const char *)mark, has - from)
                                           : memmem(begin + from, has - from, mark, length));
    *seen = has;
    return found != NULL ? (size_t)(found - begin) : SIZE_MAX;
}

/* Whether what is in the buffer, without a mark, is too much already: `limit` bytes may stand
   before the mark, and before the end of a line one more, if that is a '\r'. */
static bool mtask__stream_is_over(const mtask_stream *stream, size_t length, bool line) {
    size_t has = mtask__stream_has(stream);
    if (!line)
        return has >= stream->limit + length;
    return has > stream->limit + 1 ||
           (has > stream->limit && stream->in[stream->begin + stream->limit] != '\r');
}

/* Reads until the mark is in the buffer; *at: how many bytes stand before it. */
static mtask_status mtask__stream_seek(mtask_stream *stream, const void *mark, size_t length,
                                       bool line, size_t *at, int64_t timeout) {
    mtask__op op;
    size_t seen = 0;
    mtask_status status = mtask__stream_has(stream) > 0 && timeout >= 0
                              ? MTASK_OK
                              : mtask__stream_begin_read(stream, &op, timeout);
    bool begun = mtask__stream_has(stream) == 0;
    *at = SIZE_MAX;
    while (status == MTASK_OK) {
        *at = mtask__stream_has(stream) > 0 ? mtask__stream_find(stream, mark, length, &seen)
                                            : SIZE_MAX;
        if (*at != SIZE_MAX)
            return *at <= stream->limit + line ? MTASK_OK : MTASK_OVERFLOW;
        if (mtask__stream_is_over(stream, length, line))
            return MTASK_OVERFLOW;
        if (!begun)
            status = mtask__stream_begin_read(stream, &op, timeout);
        begun = true;
        if (status == MTASK_OK)
            status = mtask__stream_more(stream, &op, seen + 1);
    }
    return status;
}

MTASK_API mtask_status mtask_stream_read_until(mtask_stream *stream, const void *mark,
                                               size_t length, const char **data, size_t *size,
                                               int64_t timeout) {
    size_t at;
    mtask_status status = length == 0 || length > SIZE_MAX / 4
                              ? MTASK_INVALID
                              : mtask__stream_seek(stream, mark, length, false, &at, timeout);
    mtask__stream_show(stream, data, size);
    if (status == MTASK_OK) {
        *size = at + length;
        stream->begin += at + length;
    }
    return status;
}

MTASK_API mtask_status mtask_stream_read_line(mtask_stream *stream, char **line, size_t *size,
                                              int64_t timeout) {
    size_t at;
    size_t length;
    char *begin;
    mtask_status status = mtask__stream_seek(stream, "\n", 1, true, &at, timeout);
    *line = NULL;
    if (size != NULL)
        *size = 0;
    if (status != MTASK_OK && (status != MTASK_CLOSED || mtask__stream_has(stream) == 0))
        return status;
    begin = stream->in + stream->begin;
    length = at;
    if (status == MTASK_CLOSED) { /* the last one has no end */
        at = length = mtask__stream_has(stream);
    } else {
        length -= at > 0 && begin[at - 1] == '\r';
        at++;
    }
    if (length > stream->limit)
        return MTASK_OVERFLOW;
    begin[length] = '\0'; /* over its end, or where the buffer has a byte left */
    stream->begin += at;
    *line = begin;
    if (size != NULL)
        *size = length;
    return MTASK_OK;
}

MTASK_API bool mtask_stream_at_eof(const mtask_stream *stream) {
    return stream->ended == MTASK_CLOSED && mtask__stream_has(stream) == 0;
}

MTASK_API mtask_status mtask_stream_idle(mtask_stream *stream, int64_t timeout) {
    const char *data;
    size_t size;
    mtask_status status;
    stream->idle = true;
    status = mtask_stream_fill(stream, 1, &data, &size, timeout);
    stream->idle = false;
    return status;
}

/* ---- >>offload ---- */

/* The threads that run what blocks; in the child of a fork, others. */
static mtask_status mtask__offload_pool(mtask_pool **pool) {
    mtask__io_state *state = &mtask__io_process;
    mtask_pool_desc desc;
    mtask_pool *made;
    mtask_status status;
    mtask__io_init();
    mtask__lock(&state->lock);
    *pool = state->pool_nonce == mtask__nonce() ? state->pool : NULL;
    mtask__unlock(&state->lock);
    if (*pool != NULL)
        return MTASK_OK;
    memset(&desc, 0, sizeof desc);
    desc.workers = MTASK_OFFLOAD_THREADS;
    desc.name = "Offload";
    status = mtask_pool_create(&made, &desc);
    if (status != MTASK_OK)
        return status;
    mtask__lock(&state->lock);
    *pool = state->pool_nonce == mtask__nonce() ? state->pool : NULL;
    if (*pool == NULL) {
        state->pool = *pool = made;
        state->pool_nonce = mtask__nonce();
    }
    mtask__unlock(&state->lock);
    if (*pool != made)
        (void)mtask_pool_destroy(made); /* another thread was first */
    return MTASK_OK;
}

/* Waits for one of these threads; in a loop, as for something outside. */
static mtask_status mtask__offload_await(mtask_future *future, mtask_outcome *outcome,
                                         int64_t timeout) {
    mtask__strand *self = mtask__io_self();
    mtask_status status;
    if (self != NULL)
        self->loop->outside++;
    status = mtask_future_get(future, outcome, timeout);
    if (self != NULL)
        self->loop->outside--;
    return status;
}

MTASK_API mtask_status mtask_offload(mtask_fn fn, void *arg, mtask_outcome *outcome) {
    mtask_pool *pool;
    mtask_future *future;
    mtask_status status = fn == NULL ? MTASK_INVALID : MTASK_OK;
    if (status == MTASK_OK && mtask__io_self() == NULL)
        return mtask__run(fn, arg, outcome);
    if (status == MTASK_OK)
        status = mtask__offload_pool(&pool);
    if (status == MTASK_OK)
        status = mtask_pool_submit(pool, fn, arg, &future);
    if (status != MTASK_OK)
        return status;
    mtask_shield_begin();
    do /* whatever befalls the wait, `arg` is in use until it is done */
        status = mtask__offload_await(future, outcome, MTASK_FOREVER);
    while (!mtask_future_done(future));
    mtask_shield_end();
    mtask_future_release(future);
    return status;
}

/* What works on a copy. Whoever is the second to let go of it frees it: the thread, or the caller. */
typedef struct mtask__errand {
    mtask_fn fn;
    void (*drop)(void *data);
    mtask_word left;                            /* 1: one of the two has let go */
    char data[16] __attribute__((aligned(16))); /* and more */
} mtask__errand;

static void mtask__errand_free(mtask__errand *errand) {
    if (errand->drop != NULL)
        errand->drop(errand->data);
    MTASK_FREE(errand);
}

/* In the thread. */
static void *mtask__errand_run(void *arg) {
    mtask__errand *errand = (mtask__errand *)arg;
    void *value = errand->fn(errand->data);
    if (mtask__exchange(&errand->left, 1, ACQ_REL) != 0) /* pairs with mtask__errand_await */
        mtask__errand_free(errand);
    return value;
}

/* The caller waits; true: it has the copy to itself. */
static bool mtask__errand_await(mtask__errand *errand, mtask_future *future, mtask_outcome *outcome,
                                int64_t timeout, mtask_status *status) {
    *status = mtask__offload_await(future, outcome, timeout);
    if (*status == MTASK_OK || *status == MTASK_FAILED)
        return true;
    if (mtask_future_cancel(future) == MTASK_OK) { /* it never runs */
        mtask__errand_free(errand);
    } else if (mtask__exchange(&errand->left, 1, ACQ_REL) != 0) { /* pairs with errand_run */
        mtask__errand_free(errand);
    }
    return false;
}

/* Has the errand done by a thread. */
static mtask_status mtask__errand_go(mtask__errand *errand, void *data, size_t size,
                                     mtask_outcome *outcome, int64_t timeout) {
    mtask_pool *pool;
    mtask_future *future;
    mtask_status status = mtask__offload_pool(&pool);
    if (status == MTASK_OK)
        status = mtask_pool_submit(pool, mtask__errand_run, errand, &future);
    if (status != MTASK_OK) {
        MTASK_FREE(errand);
        return status;
    }
    if (mtask__errand_await(errand, future, outcome, timeout, &status)) {
        if (size > 0)
            memcpy(data, errand->data, size);
        MTASK_FREE(errand);
    }
    mtask_future_release(future);
    return status;
}

MTASK_API mtask_status mtask_offload_for(mtask_fn fn, void *data, size_t size,
                                         void (*drop)(void *data), mtask_outcome *outcome,
                                         int64_t timeout) {
    mtask__errand *errand;
    if (fn == NULL || timeout < 0 || size > SIZE_MAX - sizeof *errand)
        return MTASK_INVALID;
    if (timeout == MTASK_FOREVER && mtask__io_self() == NULL)
        return mtask__run(fn, data, outcome);
    errand = (mtask__errand *)MTASK_MALLOC(sizeof *errand + size);
    if (errand == NULL)
        return MTASK_NOMEM;
    errand->fn = fn;
    errand->drop = drop;
    errand->left = 0;
    if (size > 0)
        memcpy(errand->data, data, size);
    return mtask__errand_go(errand, data, size, outcome, timeout);
}

/* ---- >>file ---- */

/* A call of a file, for the thread that makes it. */
typedef struct mtask__file_call {
    const char *path;
    void *data;
    size_t size;
    int64_t offset;
    int fd;
    int flags;
    mode_t mode;
    size_t done;
    mtask_status status;
    int error; /* errno of that */
} mtask__file_call;

/* Has it made where it may block; errno and status are its. */
static mtask_status mtask__file_go(mtask_fn fn, mtask__file_call *call) {
    mtask_status status;
    call->status = MTASK_SYSTEM;
    status = mtask_offload(fn, call, NULL);
    if (status != MTASK_OK)
        return status;
    errno = call->error;
    return call->status;
}

static void mtask__file_end(mtask__file_call *call, bool done) {
    call->error = errno;
    call->status = done ? MTASK_OK : MTASK_SYSTEM;
    if (!done && call->error == ENOENT)
        call->status = MTASK_NOT_FOUND;
}

static void *mtask__file_open_run(void *arg) {
    mtask__file_call *call = (mtask__file_call *)arg;
    do
        call->fd = open(call->path, call->flags | O_CLOEXEC, call->mode);
    while (call->fd < 0 && errno == EINTR);
    mtask__file_end(call, call->fd >= 0);
    return NULL;
}

MTASK_API mtask_status mtask_file_open(int *fd, const char *path, int flags, unsigned mode) {
    mtask__file_call call;
    mtask_status status;
    memset(&call, 0, sizeof call);
    call.path = path;
    call.flags = flags;
    call.mode = (mode_t)mode;
    call.fd = -1;
    status = mtask__file_go(mtask__file_open_run, &call);
    *fd = call.fd;
    return status;
}

static void *mtask__file_read_run(void *arg) {
    mtask__file_call *call = (mtask__file_call *)arg;
    ssize_t got = 1;
    while (call->done < call->size && got != 0) {
        got = pread(call->fd, (char *)call->data + call->done, call->size - call->done,
                    (off_t)(call->offset + (int64_t)call->done));
        if (got < 0 && errno != EINTR)
            break;
        call->done += got > 0 ? (size_t)got : 0;
    }
    mtask__file_end(call, got >= 0);
    return NULL;
}

/* What is in memory is read at once. */
static void mtask__file_read_cached(mtask__file_call *call) {
    int saved = errno;
    ssize_t got = 1;
    while (call->done < call->size && got > 0) {
        got = mtask__os_read_cached(call->fd, (char *)call->data + call->done,
                                    call->size - call->done, call->offset + (int64_t)call->done);
        call->done += got > 0 ? (size_t)got : 0;
    }
    errno = saved;
}

MTASK_API mtask_status mtask_file_read(int fd, void *buffer, size_t capacity, int64_t offset,
                                       size_t *count) {
    mtask__file_call call;
    mtask_status status = offset < 0 ? MTASK_INVALID : MTASK_OK;
    memset(&call, 0, sizeof call);
    call.fd = fd;
    call.data = buffer;
    call.size = capacity;
    call.offset = offset;
    if (status == MTASK_OK && mtask__io_self() != NULL)
        mtask__file_read_cached(&call);
    if (status == MTASK_OK && call.done < capacity)
        status = mtask__file_go(mtask__file_read_run, &call);
    if (count != NULL)
        *count = call.done;
    return status == MTASK_OK && call.done == 0 && capacity > 0 ? MTASK_CLOSED : status;
}

static void *mtask__file_write_run(void *arg) {
    mtask__file_call *call = (mtask__file_call *)arg;
    ssize_t put = 0;
    while (call->done < call->size) {
        put = pwrite(call->fd, (const char *)call->data + call->done, call->size - call->done,
                     (off_t)(call->offset + (int64_t)call->done));
        if (put < 0 && errno != EINTR)
            break;
        call->done += put > 0 ? (size_t)put : 0;
    }
    mtask__file_end(call, put >= 0);
    return NULL;
}

MTASK_API mtask_status mtask_file_write(int fd, const void *data, size_t size, int64_t offset) {
    mtask__file_call call;
    memset(&call, 0, sizeof call);
    call.fd = fd;
    call.data = (void *)(uintptr_t)data;
    call.size = size;
    call.offset = offset;
    return offset < 0 ? MTASK_INVALID : mtask__file_go(mtask__file_write_run, &call);
}

/* Reads to its end, in a buffer that grows: files of /proc do not say how long they are. */
static mtask_status mtask__file_read_all(mtask__file_call *call) {
    size_t limit = call->size;
    size_t room = 0;
    for (;;) {
        ssize_t got;
        if (room < call->done + 2) {
            void *more;
            room = room == 0 ? 4096 : 2 * room;
            more = MTASK_REALLOC(call->data, room);
            if (more == NULL)
                return MTASK_NOMEM;
            call->data = more;
        }
        got = read(call->fd, (char *)call->data + call->done, room - call->done - 1);
        if (got == 0)
            return MTASK_OK;
        if (got < 0 && errno != EINTR)
            return MTASK_SYSTEM;
        call->done += got > 0 ? (size_t)got : 0;
        if (call->done > limit)
            return MTASK_OVERFLOW;
    }
}

static void *mtask__file_load_run(void *arg) {
    mtask__file_call *call = (mtask__file_call *)arg;
    call->flags = O_RDONLY;
    (void)mtask__file_open_run(call);
    if (call->status != MTASK_OK)
        return NULL;
    call->status = mtask__file_read_all(call);
    call->error = errno;
    (void)close(call->fd);
    if (call->status == MTASK_OK) {
        ((char *)call->data)[call->done] = '\0';
    } else {
        MTASK_FREE(call->data);
        call->data = NULL;
        call->done = 0;
    }
    return NULL;
}

MTASK_API mtask_status mtask_file_load(const char *path, size_t limit, char **data, size_t *size) {
    mtask__file_call call;
    mtask_status status;
    memset(&call, 0, sizeof call);
    call.path = path;
    call.size = limit;
    status = mtask__file_go(mtask__file_load_run, &call);
    *data = (char *)call.data;
    if (size != NULL)
        *size = call.done;
    return status;
}

MTASK_API void mtask_file_free(char *data) {
    MTASK_FREE(data);
}

/* Makes a file of another name in the same place; `made` receives the name. */
static void mtask__file_open_beside(mtask__file_call *call, char *made, size_t size) {
    static mtask_word files; /* named so far */
    do {
        unsigned number = (unsigned)mtask__add(&files, 1, RELAXED); /* only the count matters */
        (void)snprintf(made, size, "%s.%06x.%x", call->path, (unsigned)mtask__nonce(), number);
        call->fd = open(made, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, call->mode);
    } while (call->fd < 0 && (errno == EEXIST || errno == EINTR));
}

/* Fills it, and has it take the other's place, and mode. */
static void mtask__file_replace(mtask__file_call *call, const char *made) {
    struct stat old;
    bool done;
    if (stat(call->path, &old) == 0)
        (void)fchmod(call->fd, old.st_mode & 07777);
    (void)mtask__file_write_run(call);
    done = call->status == MTASK_OK;
    while (done && fsync(call->fd) != 0)
        done = errno == EINTR;
    if (call->status == MTASK_OK)
        mtask__file_end(call, done);
    done = close(call->fd) == 0 && done && rename(made, call->path) == 0;
    if (call->status == MTASK_OK)
        mtask__file_end(call, done);
    if (!done)
        (void)unlink(made);
}

/* Writes a new file beside it, which takes its place. */
static void *mtask__file_save_run(void *arg) {
    mtask__file_call *call = (mtask__file_call *)arg;
    size_t size = strlen(call->path) + 32;
    char *made = (char *)MTASK_MALLOC(size);
    if (made == NULL) {
        call->status = MTASK_NOMEM;
        return NULL;
    }
    mtask__file_open_beside(call, made, size);
    if (call->fd < 0)
        mtask__file_end(call, false);
    else
        mtask__file_replace(call, made);
    MTASK_FREE(made);
    return NULL;
}

MTASK_API mtask_status mtask_file_save(const char *path, const void *data, size_t size) {
    mtask__file_call call;
    memset(&call, 0, sizeof call);
    call.path = path;
    call.data = (void *)(uintptr_t)data;
    call.size = size;
    call.mode = 0666; /* the mask takes from that */
    return mtask__file_go(mtask__file_save_run, &call);
}

/* ---- >>signal ---- */

/* What a handler does: for each object that catches the signal it sets a bit and writes a byte into
   the object's pipe, if the bit was not set; a reader takes a byte and then a bit. Objects stand in
   an array of the process. An object that leaves is taken out of it first, and freed once no
   handler is at work: one that begins later does not find it. */
struct mtask_signals {
    int ends[2];
    size_t count;
    int numbers[NSIG];        /* what it catches */
    mtask_word pending[NSIG]; /* 1: it has come and was not told yet */
};

static void mtask__signal_handler(int number) {
    mtask__io_state *state = &mtask__io_process;
    int saved = errno;
    mtask__add(&state->catching, 1, SEQ_CST); /* pairs with mtask_signals_destroy */
    for (unsigned i = 0; i < MTASK__CATCHES; i++) {
        mtask_signals *signals = mtask__load(&state->catches[i], SEQ_CST);
        bool caught = false;
        for (size_t j = 0; signals != NULL && j < signals->count; j++)
            caught = caught || signals->numbers[j] == number;
        if (caught && mtask__exchange(&signals->pending[number], 1, SEQ_CST) == 0)
            (void)!write(signals->ends[1], "", 1);
    }
    mtask__sub(&state->catching, 1, SEQ_CST);
    errno = saved;
}

/* Has `number` do what it did before, if nobody catches it any more. Under the lock. */
static void mtask__signal_release(int number) {
    mtask__io_state *state = &mtask__io_process;
    if (--state->caught[number] == 0)
        (void)sigaction(number, &state->old[number], NULL);
}

/* Under the lock. */
static bool mtask__signal_catch(int number) {
    mtask__io_state *state = &mtask__io_process;
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = mtask__signal_handler;
    action.sa_flags = SA_RESTART;
    (void)sigfillset(&action.sa_mask);
    if (state->caught[number] == 0 && sigaction(number, &action, &state->old[number]) != 0)
        return false;
    state->caught[number]++;
    return true;
}

/* In the child of a fork, under the lock: the pipes are the parent's. */
static void mtask__signals_forget(void) {
    mtask__io_state *state = &mtask__io_process;
    for (unsigned i = 0; i < MTASK__CATCHES; i++)
        mtask__store(&state->catches[i], (mtask_signals *)NULL, SEQ_CST);
    for (int number = 1; number < NSIG; number++)
        if (state->caught[number] != 0) {
            state->caught[number] = 1;
            mtask__signal_release(number);
        }
    mtask__store(&state->catching, 0, RELAXED); /* there is one thread: pairs with none */
}

/* Puts it into the array. Under the lock. */
static bool mtask__signals_enter(mtask_signals *signals) {
    mtask__io_state *state = &mtask__io_process;
    for (unsigned i = 0; i < MTASK__CATCHES; i++)
        if (mtask__load(&state->catches[i], RELAXED) == NULL) { /* changes under the lock */
            mtask__store(&state->catches[i], signals, SEQ_CST);
            return true;
        }
    return false;
}

/* Takes it out, and lets go of the first `caught` of its signals. Under the lock. */
static void mtask__signals_leave(mtask_signals *signals, size_t caught) {
    mtask__io_state *state = &mtask__io_process;
    for (unsigned i = 0; i < MTASK__CATCHES; i++)
        if (mtask__load(&state->catches[i], RELAXED) == signals) { /* changes under the lock */
            for (size_t j = 0; j < caught; j++)
                mtask__signal_release(signals->numbers[j]);
            mtask__store(&state->catches[i], (mtask_signals *)NULL, SEQ_CST);
        }
}

/* Catches them all, or none. Under the lock. */
static mtask_status mtask__signals_begin(mtask_signals *signals) {
    size_t caught = 0;
    if (!mtask__signals_enter(signals))
        return MTASK_FULL;
    while (caught < signals->count && mtask__signal_catch(signals->numbers[caught]))
        caught++;
    if (caught == signals->count)
        return MTASK_OK;
    mtask__signals_leave(signals, caught);
    return errno == EINVAL ? MTASK_INVALID : MTASK_SYSTEM;
}

/* Frees what is in the array no more; a handler may still be at work with it. */
static void mtask__signals_free(mtask_signals *signals) {
    unsigned turn = 0;
    int saved = errno;
    while (mtask__load(&mtask__io_process.catching, SEQ_CST) != 0) /* pairs with the handler */
        mtask__stall(&turn);
    mtask__fd_drop(&signals->ends[0]);
    mtask__fd_drop(&signals->ends[1]);
    MTASK_FREE(signals);
    errno = saved;
}

MTASK_API mtask_status mtask_signals_create(mtask_signals **signals, const int *numbers,
                                            size_t count) {
    mtask_signals *made;
    mtask_status status;
    *signals = NULL;
    if (count == 0 || count >= NSIG)
        return MTASK_INVALID;
    for (size_t i = 0; i < count; i++)
        if (numbers[i] <= 0 || numbers[i] >= NSIG)
            return MTASK_INVALID;
    made = (mtask_signals *)MTASK_MALLOC(sizeof *made);
    if (made == NULL)
        return MTASK_NOMEM;
    memset((void *)made, 0, sizeof *made);
    made->count = count;
    memcpy(made->numbers, numbers, count * sizeof *numbers);
    status = mtask_io_pipe(made->ends);
    if (status == MTASK_OK) {
        mtask__io_init();
        mtask__lock(&mtask__io_process.lock);
        status = mtask__signals_begin(made);
        mtask__unlock(&mtask__io_process.lock);
    }
    if (status == MTASK_OK)
        *signals = made;
    else
        mtask__signals_free(made);
    return status;
}

MTASK_API mtask_status mtask_signals_wait(mtask_signals *signals, int *number, int64_t timeout) {
    int64_t deadline;
    mtask_status status = mtask__deadline(timeout, &deadline);
    for (;;) {
        char byte;
        if (status == MTASK_OK)
            status = mtask_io_read(signals->ends[0], &byte, 1, NULL, mtask_until(deadline));
        if (status != MTASK_OK)
            return status;
        for (int i = 1; i < NSIG; i++)
            if (mtask__load(&signals->pending[i], RELAXED) != 0 && /* a hint */
                mtask__exchange(&signals->pending[i], 0, SEQ_CST) != 0) {
                *number = i;
                return MTASK_OK;
            }
    }
}

MTASK_API void mtask_signals_destroy(mtask_signals *signals) {
    if (signals == NULL)
        return;
    mtask__lock(&mtask__io_process.lock);
    mtask__signals_leave(signals, signals->count);
    mtask__unlock(&mtask__io_process.lock);
    mtask__signals_free(signals);
}

/* ---- >>child ---- */

/* Whether it has ended: MTASK_OK; MTASK_EMPTY: not yet; MTASK_NOT_FOUND, MTASK_SYSTEM. */
static mtask_status mtask__child_reap(pid_t pid, int *status) {
    int code = 0;
    pid_t ended;
    do
        ended = waitpid(pid, &code, WNOHANG);
    while (ended < 0 && errno == EINTR);
    if (ended == 0)
        return MTASK_EMPTY;
    if (ended < 0)
        return errno == ECHILD ? MTASK_NOT_FOUND : MTASK_SYSTEM;
    if (status != NULL)
        *status = code;
    return MTASK_OK;
}

/* Where nothing tells of its end: looks again, ever more seldom. */
static mtask_status mtask__child_poll(pid_t pid, int *status, int64_t deadline) {
    int64_t nap = MTASK_US(200);
    mtask_status result = MTASK_EMPTY;
    while (result == MTASK_EMPTY) {
        int64_t left = mtask_until(deadline);
        if (left == 0)
            return MTASK_TIMEOUT;
        result = mtask_sleep(nap < left ? nap : left);
        if (result == MTASK_OK)
            result = mtask__child_reap(pid, status);
        nap = nap < MTASK_MS(20) ? 2 * nap : nap;
    }
    return result;
}

MTASK_API mtask_status mtask_child_wait(pid_t pid, int *status, int64_t timeout) {
    int64_t deadline;
    int fd;
    mtask_status result = pid <= 0 ? MTASK_INVALID : mtask__deadline(timeout, &deadline);
    if (result == MTASK_OK)
        result = mtask__child_reap(pid, status);
    if (result != MTASK_EMPTY || timeout == 0)
        return result == MTASK_EMPTY ? MTASK_TIMEOUT : result;
    fd = mtask__os_child_fd(pid);
    if (fd < 0)
        return mtask__child_poll(pid, status, deadline);
    do {
        result = mtask_io_wait(fd, MTASK_IO_READ, mtask_until(deadline));
        if (result == MTASK_OK)
            result = mtask__child_reap(pid, status);
    } while (result == MTASK_EMPTY);
    mtask__fd_drop(&fd);
    return result;
}

/* ---- >>serve ---- */

/* A loop of a server: its tasks are one that accepts, and the handlers. */
typedef struct mtask__part {
    mtask_server *server;
    int listener;
    mtask_loop *loop; /* while it runs; guarded by the server's lock */
    mtask_thread thread;
    mtask_taskgroup group;
    bool started;        /* the thread was */
    mtask_stream *first; /* those of its handlers, also before these begin */
    mtask_loop_call stop;
} mtask__part;

struct mtask_server {
    mtask_handler *handler;
    mtask_serve_desc desc;
    mtask_address address;
    mtask__part *parts;
    size_t count;
    bool inside;            /* its loop is its starter's */
    mtask_signals *signals; /* that stop it; NULL: none do */
    struct stat file;       /* of a Unix socket; st_ino is 0: none */
    mtask_word nonce;       /* of the process to which it belongs */
    mtask_mutex lock;       /* guards the parts' `loop` */
    mtask_word stopping;
    mtask_word begun;    /* parts whose loops have begun, or could not */
    mtask_word running;  /* parts that have not ended */
    mtask_status failed; /* why one could not; guarded by the lock */
    int failed_error;    /* errno of that */
    mtask_word ended;    /* connections, counted; what stalls waits for that */
    size_t accepted;
    size_t connections;
    size_t stalls;
};

# define MTASK__SERVE_STALL MTASK_MS(100) /* after so long it tries again, whatever has ended */

static bool mtask__stream_must_stop(const mtask_stream *stream) {
    return stream->idle && stream->part != NULL && mtask_server_is_stopping(stream->part->server);
}

MTASK_API bool mtask_server_is_stopping(const mtask_server *server) {
    return mtask__load(&server->stopping, ACQUIRE) != 0; /* pairs with mtask_server_stop */
}

/* Has those who read from it look again. */
static void mtask__io_rouse(mtask__io *io, int fd) {
    if (fd < 0 || (size_t)fd >= io->capacity)
        return;
    for (mtask__io_node *node = io->records[fd].first; node != NULL; node = node->next)
        if ((node->which->events & MTASK_IO_READ) != 0) {
            node->wait->broken = true;
            mtask__io_wake(node->wait);
        }
}

/* On the part's loop: it accepts no more, and what is idle ends. */
static void mtask__part_stop(void *arg) {
    mtask__part *part = (mtask__part *)arg;
    mtask__io *io = (mtask__io *)(void *)mtask_loop_current()->io;
    mtask__fd_drop(&part->listener);
    if (io == NULL)
        return;
    for (mtask_stream *stream = part->first; stream != NULL; stream = stream->part_next)
        if (stream->idle)
            mtask__io_rouse(io, mtask__stream_number(stream));
    if (part->server->signals != NULL && part == part->server->parts)
        mtask__io_rouse(io, part->server->signals->ends[0]);
}

/* Removes a Unix socket's file, unless another one stands there. Before the sockets are closed: as
   long as one is open, its file's number is given to no other. */
static void mtask__server_unlink(const mtask_server *server) {
    const char *path = server->address.as.path.sun_path;
    struct stat info;
    int saved = errno;
    if (server->file.st_ino != 0 && lstat(path, &info) == 0 && info.st_ino == server->file.st_ino &&
        info.st_dev == server->file.st_dev)
        (void)unlink(path);
    errno = saved;
}

MTASK_API void mtask_server_stop(mtask_server *server) {
    if (server->nonce != mtask__nonce() ||                   /* the parent's */
        mtask__exchange(&server->stopping, 1, ACQ_REL) != 0) /* pairs with is_stopping */
        return;
    mtask__server_unlink(server);
    mtask__lock(&server->lock);
    for (size_t i = 0; i < server->count; i++)
        if (server->parts[i].loop != NULL)
            (void)mtask_loop_post(server->parts[i].loop, &server->parts[i].stop);
    mtask__unlock(&server->lock);
    mtask__add(&server->ended, 1, RELEASE); /* pairs with mtask__part_room: it may wait for room */
    (void)mtask__wake(&server->ended, INT_MAX, 0);
}

/* A connection has ended. */
static void mtask__server_leave(mtask_server *server) {
    mtask__sub(&server->connections, 1, RELAXED); /* ordered by the next */
    mtask__add(&server->ended, 1, SEQ_CST);       /* pairs with mtask__part_room */
    (void)mtask__wake(&server->ended, INT_MAX, MTASK__AFTER_RMW);
}

/* Notes that the part has the stream. */
static void mtask__part_add(mtask__part *part, mtask_stream *stream) {
    stream->part = part;
    stream->part_next = part->first;
    if (stream->part_next != NULL)
        stream->part_next->part_prev = stream;
    part->first = stream;
}

/* Has done with it. */
static void mtask__part_drop(mtask_stream *stream) {
    mtask__part *part = stream->part;
    if (stream->part_next != NULL)
        stream->part_next->part_prev = stream->part_prev;
    if (stream->part_prev != NULL)
        stream->part_prev->part_next = stream->part_next;
    else
        part->first = stream->part_next;
    mtask_stream_destroy(stream);
    mtask__server_leave(part->server);
}

/* A handler's task. */
static void *mtask__part_handle(void *arg) {
    mtask_stream *stream = (mtask_stream *)arg;
    mtask_server *server = stream->part->server;
    server->handler(stream, server->desc.ctx);
    (void)mtask_stream_close(stream, server->desc.close_timeout);
    mtask__part_drop(stream);
    return NULL;
}

/* Starts a handler of a connection that is counted already. */
static mtask_status mtask__part_begin(mtask__part *part, int fd) {
    mtask_stream *stream;
    mtask_go_desc desc;
    mtask_status status = mtask_stream_open(&stream, fd, &part->server->desc.stream);
    if (status != MTASK_OK) {
        mtask__fd_drop(&fd);
        mtask__server_leave(part->server);
        return status;
    }
    mtask__part_add(part, stream);
    memset(&desc, 0, sizeof desc);
    desc.fn = mtask__part_handle;
    desc.arg = stream;
    desc.name = "connection";
    desc.stack_size = part->server->desc.stack_size;
    mtask__add(&part->server->accepted, 1, RELAXED); /* only a number */
    status = mtask__taskgroup_start(&part->group, &desc, NULL);
    if (status != MTASK_OK)
        mtask__part_drop(stream);
    return status;
}

/* Waits until a connection has ended since `ended` was read, or for a while. */
static mtask_status mtask__part_pause(mtask__part *part, mtask_word ended, int64_t timeout) {
    mtask_status status = mtask_word_wait(&part->server->ended, ended, timeout, 0);
    if (status == MTASK_OK || status == MTASK_TIMEOUT || status == MTASK_CANCELED)
        return status == MTASK_CANCELED ? status : MTASK_OK;
    return mtask_yield(); /* there is not even the memory to wait */
}

/* Counts one more connection, if there may be one more. */
static bool mtask__server_enter(mtask_server *server) {
    size_t most = server->desc.max_connections != 0 ? server->desc.max_connections : SIZE_MAX;
    size_t now = mtask__load(&server->connections, RELAXED); /* a guess that the CAS confirms */
    do
        if (now >= most)
            return false;
    while (!mtask__cas(&server->connections, &now, now + 1, RELAXED)); /* only a number */
    return true;
}

/* Waits until there is room for one more connection; `take`: and takes it. */
static mtask_status mtask__part_room(mtask__part *part, bool take) {
    mtask_server *server = part->server;
    for (;;) {
        mtask_word ended = mtask__load(&server->ended, ACQUIRE); /* pairs with server_leave */
        mtask_status status;
        if (mtask_server_is_stopping(server))
            return MTASK_BROKEN;
        if (mtask__server_enter(server)) {
            if (!take)
                mtask__sub(&server->connections, 1, RELAXED); /* nobody was told */
            return MTASK_OK;
        }
        status = mtask__part_pause(part, ended, MTASK_FOREVER);
        if (status != MTASK_OK)
            return status;
    }
}

/* Accepts a connection, and has it handled. Where the system or the memory is exhausted it waits a
   while: until a connection has ended, or a moment has passed. */
static mtask_status mtask__part_accept(mtask__part *part) {
    mtask_server *server = part->server;
    mtask_word ended = mtask__load(&server->ended, ACQUIRE); /* pairs with mtask__server_leave */
    int fd;
    mtask_status status = mtask_tcp_accept(part->listener, &fd, NULL, MTASK_FOREVER);
    if (status == MTASK_OK) {
        status = mtask__part_room(part, true); /* another loop may have been faster */
        if (status != MTASK_OK) {
            mtask__fd_drop(&fd);
            return status;
        }
        status = mtask__part_begin(part, fd);
    }
    if (status == MTASK_OK || status == MTASK_CANCELED || mtask_server_is_stopping(server))
        return status;
    mtask__add(&server->stalls, 1, RELAXED); /* only a number */
    return mtask__part_pause(part, ended, MTASK__SERVE_STALL);
}

static void *mtask__part_signals(void *arg) {
    mtask_server *server = (mtask_server *)arg;
    int number;
    if (!mtask_server_is_stopping(server) &&
        mtask_signals_wait(server->signals, &number, MTASK_FOREVER) == MTASK_OK)
        mtask_server_stop(server);
    return NULL;
}

static void mtask__part_ended(mtask__part *part) {
    mtask_server *server = part->server;
    mtask__fd_drop(&part->listener);
    mtask__lock(&server->lock);
    part->loop = NULL; /* from now on nobody posts `stop` */
    mtask__unlock(&server->lock);
    while (mtask__load(&part->stop.posted, ACQUIRE) != 0) /* pairs with mtask__loop_drain */
        (void)mtask_yield(); /* what was posted before that is on its way, and uses the part */
}

/* Its loop has begun, or why it could not. */
static void mtask__part_began(mtask__part *part, mtask_status status) {
    mtask_server *server = part->server;
    if (status != MTASK_OK) {
        mtask__lock(&server->lock);
        server->failed = status;
        server->failed_error = errno;
        mtask__unlock(&server->lock);
    }
    mtask__add(&server->begun, 1, SEQ_CST); /* pairs with mtask__server_await */
    (void)mtask__wake(&server->begun, INT_MAX, MTASK__AFTER_RMW);
}

/* The task that accepts, up to the end of all handlers. */
static void *mtask__part_run(void *arg) {
    mtask__part *part = (mtask__part *)arg;
    mtask_server *server = part->server;
    mtask_limit grace;
    mtask_status status = MTASK_OK;
    (void)mtask_limit_begin(&grace, MTASK_FOREVER);
    (void)mtask_taskgroup_begin(&part->group);
    mtask__lock(&server->lock);
    part->loop = mtask_loop_current();
    mtask__unlock(&server->lock);
    if (server->signals != NULL && part == server->parts)
        status = mtask_taskgroup_go(&part->group, mtask__part_signals, server, NULL);
    mtask__part_began(part, status);
    while (status != MTASK_CANCELED && !mtask_server_is_stopping(server)) {
        status = mtask__part_room(part, false);
        if (status == MTASK_OK)
            status = mtask__part_accept(part);
    }
    mtask_server_stop(server); /* if it was cancelled, all of it ends */
    mtask__part_stop(part);
    (void)mtask_limit_set(&grace, server->desc.grace);
    (void)mtask_taskgroup_end(&part->group, NULL);
    (void)mtask_limit_end(&grace);
    while (part->first != NULL)
        mtask__part_drop(part->first); /* was cancelled before it had begun */
    mtask__part_ended(part);
    return NULL;
}

/* A part has ended: whoever joins the server may go on once all have. After this, nothing of the
   server is touched. */
static void mtask__part_tell(mtask_server *server) {
    mtask_word *running = &server->running;
    mtask__sub(running, 1, SEQ_CST); /* pairs with mtask_server_join */
    (void)mtask__wake(running, INT_MAX, MTASK__AFTER_RMW);
}

static void *mtask__part_inside(void *arg) {
    mtask__part *part = (mtask__part *)arg;
    (void)mtask__part_run(part);
    mtask__part_tell(part->server);
    return NULL;
}

static void *mtask__part_thread(void *arg) {
    mtask__part *part = (mtask__part *)arg;
    mtask_loop_desc desc;
    mtask_status status;
    memset(&desc, 0, sizeof desc);
    desc.name = "Server";
    desc.stack_size = part->server->desc.stack_size;
    status = mtask_loop_run_ex(mtask__part_run, part, NULL, &desc);
    if (status != MTASK_OK && part->loop == NULL && part->listener >= 0)
        mtask__part_began(part, status);
    mtask__part_tell(part->server);
    return NULL;
}

/* Whether the caller is one of its handlers, or what accepts. */
static bool mtask__server_is_mine(const mtask_server *server) {
    const mtask__strand *self = mtask__strand_here();
    for (size_t i = 0; self != NULL && i < server->count; i++)
        if (self->group == &server->parts[i].group)
            return true;
    return false;
}

/* Closes the listening sockets that are left, and frees it. */
static void mtask__server_free(mtask_server *server) {
    int saved = errno;
    for (size_t i = 0; i < server->count; i++)
        mtask__fd_drop(&server->parts[i].listener);
    mtask_signals_destroy(server->signals);
    MTASK_FREE(server->parts);
    MTASK_FREE(server);
    errno = saved;
}

/* Another socket for the same address: one that shares the port, or, of a Unix socket, the same. */
static mtask_status mtask__server_listen_again(const mtask_server *server, int *fd) {
    mtask_listen_desc desc = server->desc.listen;
    if (mtask__address_is_ip(&server->address)) {
        desc.share_port = true;
        return mtask__listen_at(fd, &server->address, &desc);
    }
    *fd = fcntl(server->parts[0].listener, F_DUPFD_CLOEXEC, 0);
    return *fd < 0 ? MTASK_SYSTEM : mtask__fd_keep(fd, MTASK__FD_SOCKET);
}

/* The first socket. One that shares its port takes the place of one that does not: so nobody else
   has the port. */
static mtask_status mtask__server_listen_first(mtask_server *server, const char *address) {
    int *fd = &server->parts[0].listener;
    mtask_status status = mtask_tcp_listen(fd, address, &server->desc.listen);
    if (status == MTASK_OK)
        status = mtask_io_local(*fd, &server->address);
    if (status == MTASK_OK && server->count > 1 && !server->desc.listen.share_port &&
        mtask__address_is_ip(&server->address)) {
        mtask__fd_drop(fd);
        status = mtask__server_listen_again(server, fd);
    }
    return status;
}

static mtask_status mtask__server_listen(mtask_server *server, const char *address) {
    const char *path = server->address.as.path.sun_path;
    mtask_status status = mtask__server_listen_first(server, address);
    if (status == MTASK_OK && server->address.as.any.sa_family == AF_UNIX && path[0] != '\0' &&
        lstat(path, &server->file) != 0)
        server->file.st_ino = 0;
    for (size_t i = 1; i < server->count && status == MTASK_OK; i++)
        status = mtask__server_listen_again(server, &server->parts[i].listener);
    return status;
}

/* What the description leaves open. */
static void mtask__server_settle(mtask_serve_desc *desc) {
    if (desc->grace <= 0)
        desc->grace = desc->grace < 0 ? 0 : MTASK_SEC(10);
    if (desc->close_timeout <= 0)
        desc->close_timeout = desc->close_timeout < 0 ? 0 : MTASK_SEC(10);
    if (desc->loops == MTASK_LOOP_PER_CPU)
        desc->loops = mtask_cpu_count();
}

static mtask_server *mtask__server_alloc(mtask_handler *handler, const mtask_serve_desc *desc) {
    mtask_server *server = (mtask_server *)MTASK_MALLOC(sizeof *server);
    if (server == NULL)
        return NULL;
    memset((void *)server, 0, sizeof *server);
    server->handler = handler;
    if (desc != NULL)
        server->desc = *desc;
    mtask__server_settle(&server->desc);
    server->nonce = mtask__nonce();
    server->inside = server->desc.loops == 0 && mtask__io_self() != NULL;
    server->count = server->desc.loops == 0 ? 1 : server->desc.loops;
    server->parts = (mtask__part *)MTASK_MALLOC(server->count * sizeof *server->parts);
    if (server->parts == NULL) {
        MTASK_FREE(server);
        return NULL;
    }
    memset((void *)server->parts, 0, server->count * sizeof *server->parts);
    for (size_t i = 0; i < server->count; i++) {
        server->parts[i].server = server;
        server->parts[i].listener = -1;
        server->parts[i].stop.fn = mtask__part_stop;
        server->parts[i].stop.arg = &server->parts[i];
    }
    return server;
}

/* Starts a part, which counts as running from before that on. */
static mtask_status mtask__part_start(mtask__part *part, bool inside) {
    mtask_go_desc go;
    mtask_thread_desc thread;
    mtask_status status;
    mtask__add(&part->server->running, 1, RELAXED); /* ordered by the start */
    if (inside) {
        memset(&go, 0, sizeof go);
        go.fn = mtask__part_inside;
        go.arg = part;
        go.name = "server";
        go.now = true; /* so that it begins, whatever comes */
        status = mtask_go_ex(&go);
    } else {
        memset(&thread, 0, sizeof thread);
        thread.fn = mtask__part_thread;
        thread.arg = part;
        thread.name = "Server";
        thread.daemon = true;
        status = mtask_thread_start_ex(&part->thread, &thread);
        part->started = status == MTASK_OK;
    }
    if (status != MTASK_OK)
        mtask__sub(&part->server->running, 1, RELAXED); /* nobody waits yet */
    return status;
}

/* Waits until the loops of so many parts have begun. MTASK_OK, or why one could not. */
static mtask_status mtask__server_await(mtask_server *server, size_t parts) {
    mtask_word begun;
    while ((begun = mtask__load(&server->begun, ACQUIRE)) < parts) /* pairs with part_began */
        (void)mtask__wait(&server->begun, begun, MTASK_FOREVER, MTASK__NOCANCEL);
    if (server->failed != MTASK_OK)
        errno = server->failed_error;
    return server->failed;
}

static mtask_status mtask__server_begin(mtask_server *server, const char *address, bool signals) {
    static const int numbers[] = {SIGINT, SIGTERM};
    size_t started = 0;
    mtask_status waited;
    mtask_status status = MTASK_OK;
    if (signals)
        status = mtask_signals_create(&server->signals, numbers, 2);
    if (status == MTASK_OK)
        status = mtask__server_listen(server, address);
    while (started < server->count && status == MTASK_OK) {
        status = mtask__part_start(&server->parts[started], server->inside);
        started += status == MTASK_OK;
    }
    waited = mtask__server_await(server, started);
    return status != MTASK_OK ? status : waited;
}

static mtask_status mtask__server_create(mtask_server **server, const char *address,
                                         mtask_handler *handler, const mtask_serve_desc *desc,
                                         bool signals) {
    mtask_server *made;
    mtask_status status;
    int saved;
    *server = NULL;
    if (handler == NULL)
        return MTASK_INVALID;
    made = mtask__server_alloc(handler, desc);
    if (made == NULL)
        return MTASK_NOMEM;
    status = mtask__server_begin(made, address, signals);
    saved = errno;
    if (status == MTASK_OK)
        *server = made;
    else
        (void)mtask_server_destroy(made);
    errno = saved;
    return status;
}

MTASK_API mtask_status mtask_server_start(mtask_server **server, const char *address,
                                          mtask_handler *handler, const mtask_serve_desc *desc) {
    return mtask__server_create(server, address, handler, desc, false);
}

MTASK_API mtask_status mtask_server_address(const mtask_server *server, mtask_address *address) {
    *address = server->address;
    return MTASK_OK;
}

MTASK_API mtask_server_stats mtask_server_get_stats(const mtask_server *server) {
    mtask_server_stats stats;
    stats.accepted = mtask__load(&server->accepted, RELAXED); /* only numbers */
    stats.connections = mtask__load(&server->connections, RELAXED);
    stats.stalls = mtask__load(&server->stalls, RELAXED);
    return stats;
}

MTASK_API mtask_status mtask_server_join(mtask_server *server, int64_t timeout) {
    int64_t deadline;
    mtask_word running;
    mtask_status status = mtask__deadline(timeout, &deadline);
    if (status == MTASK_OK && mtask__server_is_mine(server))
        status = MTASK_DEADLOCK;
    if (status == MTASK_OK && server->nonce != mtask__nonce())
        status = MTASK_BROKEN;
    while (status == MTASK_OK &&
           (running = mtask__load(&server->running, ACQUIRE)) != 0) /* pairs with part_tell */
        status = mtask__wait(&server->running, running, deadline, 0);
    return status;
}

MTASK_API mtask_status mtask_server_destroy(mtask_server *server) {
    mtask_status status = MTASK_OK;
    if (server == NULL)
        return MTASK_OK;
    if (mtask__server_is_mine(server))
        return MTASK_DEADLOCK;
    if (server->nonce == mtask__nonce()) { /* not in the child of a fork */
        mtask_server_stop(server);
        mtask_shield_begin();
        status = mtask_server_join(server, MTASK_FOREVER);
        for (size_t i = 0; i < server->count && status == MTASK_OK; i++)
            if (server->parts[i].started)
                status = mtask_thread_join(&server->parts[i].thread, NULL, MTASK_FOREVER);
        mtask_shield_end();
    } else {
        server->signals = NULL; /* the parent's */
    }
    if (status == MTASK_OK)
        mtask__server_free(server);
    return status;
}

/* What to serve. */
typedef struct mtask__serving {
    const char *address;
    mtask_handler *handler;
    const mtask_serve_desc *desc;
    mtask_status status;
    int error; /* errno of that */
} mtask__serving;

static void *mtask__serving_run(void *arg) {
    mtask__serving *serving = (mtask__serving *)arg;
    serving->status = mtask_serve(serving->address, serving->handler, serving->desc);
    serving->error = errno;
    return NULL;
}

/* In a loop of the calling thread: a process with one thread spares the system some work. */
static mtask_status mtask__serve_here(mtask__serving *serving) {
    mtask_loop_desc desc;
    mtask_status status;
    memset(&desc, 0, sizeof desc);
    desc.name = "Server";
    serving->status = MTASK_SYSTEM;
    status = mtask_loop_run_ex(mtask__serving_run, serving, NULL, &desc);
    if (status != MTASK_OK)
        return status;
    errno = serving->error;
    return serving->status;
}

MTASK_API mtask_status mtask_serve(const char *address, mtask_handler *handler,
                                   const mtask_serve_desc *desc) {
    mtask__serving serving = {address, handler, desc, MTASK_OK, 0};
    mtask_server *server;
    mtask_status status;
    if ((desc == NULL || desc->loops == 0) && mtask_loop_current() == NULL)
        return mtask__serve_here(&serving);
    status = mtask__server_create(&server, address, handler, desc, desc != NULL && desc->signals);
    if (status != MTASK_OK)
        return status;
    if (desc != NULL && desc->on_ready != NULL)
        desc->on_ready(server, desc->ctx);
    status = mtask_server_join(server, MTASK_FOREVER);
    (void)mtask_server_destroy(server);
    return status;
}

/* ---- >>linux-io ---- */

# if defined(__linux__) && !defined(MTASK_FORCE_POSIX)
#  include <sys/sendfile.h>
#  include <sys/syscall.h>

static int mtask__os_socket(int domain, int type) {
    return socket(domain, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
}

static bool mtask__os_socketpair(int ends[2]) {
    ends[0] = ends[1] = -1;
    return socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) == 0;
}

static int mtask__os_accept(int fd, struct sockaddr *address, socklen_t *size) {
    return accept4(fd, address, size, SOCK_NONBLOCK | SOCK_CLOEXEC);
}

static ssize_t mtask__os_write_quiet(int fd, const struct iovec *parts, int n) {
    static mtask_word known; /* 1: this system has it (Linux 6.18); 2: it has not */
    ssize_t put;
    if (mtask__load(&known, RELAXED) != 2) { /* a hint */
        put = syscall(SYS_pwritev2, fd, parts, n, -1L, -1L, 0x100 /* RWF_NOSIGNAL */);
        if (put >= 0)
            mtask__store(&known, 1, RELAXED);
        if (put >= 0 || (errno != EOPNOTSUPP && errno != EINVAL && errno != ENOSYS))
            return put;
        if (mtask__load(&known, RELAXED) == 0) /* else this descriptor is to blame */
            mtask__store(&known, 2, RELAXED);
    }
    errno = ENOSYS;
    return -1;
}

static ssize_t mtask__os_sendfile(int to, int file, int64_t offset, size_t size) {
    off_t at = (off_t)offset;
    return sendfile(to, file, &at, size);
}

static ssize_t mtask__os_read_cached(int fd, void *buffer, size_t capacity, int64_t offset) {
#  ifdef SYS_preadv2
    struct iovec part;
    part.iov_base = buffer;
    part.iov_len = capacity;
    return syscall(SYS_preadv2, fd, &part, 1, (long)offset, (long)(offset >> 31 >> 1),
                   8 /* RWF_NOWAIT */);
#  else
    (void)fd, (void)buffer, (void)capacity, (void)offset;
    errno = EAGAIN;
    return -1;
#  endif
}

static int mtask__os_child_fd(pid_t pid) {
    return (int)syscall(434 /* pidfd_open, on all CPUs */, pid, 0);
}

# else

/* ---- >>posix-io ---- */

/* It does not block, and children do not inherit it; or it is closed. */
static int mtask__os_prepared(int fd) {
    int saved;
    if (fd < 0 || (fcntl(fd, F_SETFL, O_NONBLOCK) == 0 && fcntl(fd, F_SETFD, FD_CLOEXEC) == 0))
        return fd;
    saved = errno;
    (void)close(fd);
    errno = saved;
    return -1;
}

static int mtask__os_socket(int domain, int type) {
    return mtask__os_prepared(socket(domain, type, 0));
}

static bool mtask__os_socketpair(int ends[2]) {
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0) {
        ends[0] = mtask__os_prepared(ends[0]);
        ends[1] = mtask__os_prepared(ends[1]);
        if (ends[0] >= 0 && ends[1] >= 0)
            return true;
        for (int i = 0; i < 2; i++)
            if (ends[i] >= 0)
                (void)close(ends[i]);
    }
    ends[0] = ends[1] = -1;
    return false;
}

static int mtask__os_accept(int fd, struct sockaddr *address, socklen_t *size) {
    return mtask__os_prepared(accept(fd, address, size));
}

static ssize_t mtask__os_write_quiet(int fd, const struct iovec *parts, int n) {
    (void)fd, (void)parts, (void)n;
    errno = ENOSYS;
    return -1;
}

static ssize_t mtask__os_sendfile(int to, int file, int64_t offset, size_t size) {
    (void)to, (void)file, (void)offset, (void)size;
    errno = ENOSYS;
    return -1;
}

static ssize_t mtask__os_read_cached(int fd, void *buffer, size_t capacity, int64_t offset) {
    (void)fd, (void)buffer, (void)capacity, (void)offset;
    errno = EAGAIN;
    return -1;
}

static int mtask__os_child_fd(pid_t pid) {
    (void)pid;
    errno = ENOSYS;
    return -1;
}
# endif

# ifdef __cplusplus
} /* extern "C" */
# endif

#endif /* MTASK_IO_IMPLEMENTATION */
