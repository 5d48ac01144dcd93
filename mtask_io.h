/* mtask_io.h 0.5.0 - sockets, pipes, streams and servers for tasks and threads

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

         int main(void) {
             mtask_serve_desc desc = {.signals = true}; // ends by SIGINT or SIGTERM
             mtask_status status = mtask_serve("localhost:7000", greet, &desc);
             if (status != MTASK_OK)
                 perror(mtask_strerror(status));
             return status != MTASK_OK;
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

   DESCRIPTORS
     Those that mtask made, or that were handed over by mtask_io_adopt, are its own: they are registered
     with the system once, and must be closed by mtask_io_close. All others may be used as well, and
     closed as one likes: before each wait they are registered anew, one more system call. Their mode is
     left as it is; one that blocks (a terminal) is read and written only when it is ready.

   CONTENTS: grep for the tag.
     >>io  >>address  >>tcp  >>stream  >>offload  >>file  >>signal  >>child  >>serve
     implementation: >>io-state  >>io-record  >>io-wait  >>io-thread  >>io-try  and the same again
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

/* Waits until `fd` is ready for one of `events`, MTASK_IO_READ | MTASK_IO_WRITE, for at most `timeout`
   nanoseconds. Errors and hang-ups make it ready for both. Files are always ready. MTASK_OK,
   MTASK_TIMEOUT, MTASK_CANCELED, MTASK_BROKEN (closed meanwhile), MTASK_INVALID (no event, negative),
   MTASK_NOMEM, MTASK_DEADLOCK, MTASK_SYSTEM (errno is EBADF: not a descriptor). Any task or thread,
   several at once. */
MTASK_API mtask_status mtask_io_wait(int fd, unsigned events, int64_t timeout);

/* One of several descriptors to wait for. */
typedef struct mtask_io_case {
    int fd;          /* negative: none */
    unsigned events; /* wanted */
    unsigned ready;  /* becomes those of them that have come */
} mtask_io_case;

/* Waits until at least one of `count` descriptors is ready, as mtask_io_wait; then `ready` says
   which. At most 1024. */
MTASK_API mtask_status mtask_io_select(mtask_io_case *cases, size_t count, int64_t timeout);

/* Reads what there is, `capacity` bytes at most, waiting for the first; `count` (here and below: NULL
   allowed) receives how many. MTASK_OK; MTASK_CLOSED: the end; others as above. A capacity of 0
   reads nothing. */
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

/* Closes it: whoever waits for it, in any task or thread, is told MTASK_BROKEN. It must not be in the
   midst of a call of another thread that does not wait, as with close itself. MTASK_OK;
   MTASK_SYSTEM: the system told of an error, or of EBADF; the descriptor is gone in any case. Does
   not wait. */
MTASK_API mtask_status mtask_io_close(int fd);

/* Makes a descriptor mtask's own, see above; it becomes non-blocking, for all who share it. MTASK_OK,
   MTASK_NOMEM, MTASK_SYSTEM. */
MTASK_API mtask_status mtask_io_adopt(int fd);

/* A pipe of two descriptors of mtask's own: what is written to ends[1] is read from ends[0]. MTASK_OK,
   MTASK_NOMEM, MTASK_SYSTEM. */
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
   be tried; `count` receives how many. MTASK_OK; MTASK_NOT_FOUND: there is none of that name, or the
   service is not known; MTASK_TIMEOUT, MTASK_CANCELED: nobody waits for the answer any more;
   MTASK_INVALID, MTASK_NOMEM, MTASK_SYSTEM (errno is EAGAIN: the name server does not answer). */
MTASK_API mtask_status mtask_resolve(const char *text, mtask_address *addresses, size_t capacity,
                                     size_t *count, int64_t timeout);

/* The address of a socket, and of its other end. MTASK_OK, MTASK_SYSTEM. */
MTASK_API mtask_status mtask_io_local(int fd, mtask_address *address);
MTASK_API mtask_status mtask_io_peer(int fd, mtask_address *address);

/* ---- >>tcp: stream sockets, and datagrams ---- */

/* Connects to "host:port" or "unix:/path"; *fd receives a socket, without Nagle's delay; close it by
   mtask_io_close. A host of several addresses: they are tried in turn, a new one after 250 ms or
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

/* Listens on "host:port" or "unix:/path"; port 0 is one that is free: see mtask_io_local. A Unix
   socket's file of which nobody listens any more is replaced. *fd is closed by mtask_io_close.
   MTASK_OK, MTASK_SYSTEM (EADDRINUSE ...), those of mtask_resolve, which may wait. After an error *fd
   is -1. */
MTASK_API mtask_status mtask_tcp_listen(int *fd, const char *address,
                                        const mtask_listen_desc *desc);

/* Accepts a connection; *fd is closed by mtask_io_close, *peer (NULL allowed) is where it comes from.
   A connection that is broken before it is accepted is passed over. MTASK_OK; MTASK_SYSTEM (EMFILE,
   ENFILE, ENOBUFS, ENOMEM: it still waits to be accepted); those of mtask_io_wait. After an error *fd
   is -1. */
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

/* Receives one datagram, waiting for it; *from (NULL allowed) is where it comes from. MTASK_OK (also
   if it is empty); MTASK_OVERFLOW: it was longer than `capacity`, and the rest is lost; those of
   mtask_io_read. On a stream socket as mtask_io_read. */
MTASK_API mtask_status mtask_io_recvfrom(int fd, void *buffer, size_t capacity, size_t *count,
                                         mtask_address *from, int64_t timeout);

/* Sends one datagram (NULL: to where the socket is connected). MTASK_OK, MTASK_SYSTEM (EMSGSIZE ...),
   those of mtask_io_write. */
MTASK_API mtask_status mtask_io_sendto(int fd, const void *data, size_t size,
                                       const mtask_address *to, int64_t timeout);

/* ---- >>stream: buffered ---- */

/* A descriptor with buffers. One task or thread at a time reads; any number write: each write stays
   in one piece. What is written is sent when the buffer is full, when its reader has to wait for
   input, by mtask_stream_drain and _close; and in a loop, also when the loop has nothing else to do.
   While it waits for input with nothing in its buffers, it has none. */
typedef struct mtask_stream mtask_stream;

/* How to make one. Zero, or NULL, means the default. */
typedef struct mtask_stream_desc {
    size_t buffer; /* bytes (default: MTASK_STREAM_BUFFER) */
    size_t limit;  /* bytes (default: MTASK_STREAM_LIMIT) */
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

/* Takes `size` bytes out of the buffer, after mtask_stream_fill. MTASK_OK; MTASK_INVALID: so many are
   not in it. */
MTASK_API mtask_status mtask_stream_skip(mtask_stream *stream, size_t size);

/* Reads what there is, `capacity` bytes at most, waiting for the first; as mtask_io_read. */
MTASK_API mtask_status mtask_stream_read(mtask_stream *stream, void *buffer, size_t capacity,
                                         size_t *count, int64_t timeout);

/* Reads `size` bytes, all of them; `count` (NULL allowed) receives how many it got, also if it ends
   early. MTASK_OK; MTASK_CLOSED: the input ends before. Those of mtask_io_read. */
MTASK_API mtask_status mtask_stream_read_exactly(mtask_stream *stream, void *buffer, size_t size,
                                                 size_t *count, int64_t timeout);

/* Reads up to and including the `length` bytes of `mark` (at least one). *data and *size are what it
   read, in the stream's buffer until the next call that reads. MTASK_OK; MTASK_CLOSED: the input ended
   before; *data and *size are what is left, and stay to be read; MTASK_OVERFLOW: more than the limit
   without the mark; nothing is taken out. Others likewise, as mtask_stream_fill. */
MTASK_API mtask_status mtask_stream_read_until(mtask_stream *stream, const void *mark,
                                               size_t length, const char **data, size_t *size,
                                               int64_t timeout);

/* Reads a line; *line is without its "\n" or "\r\n", ends in a zero, is the caller's to change, and
   valid until the next call that reads; *size (NULL allowed) is how long it is. The last line needs no
   end. MTASK_OK; MTASK_CLOSED: there is no other one. MTASK_OVERFLOW as above. After an error *line is NULL. */
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

/* The same, of several pieces that stay together. */
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

/* Sends what is in the buffer, and tells the other end that no more comes; reading goes on. MTASK_OK,
   those of mtask_stream_drain; MTASK_UNSUPPORTED: not a socket. */
MTASK_API mtask_status mtask_stream_shutdown(mtask_stream *stream, int64_t timeout);

/* Sends what is in the buffer and closes the descriptor in any case; what waits for the stream is
   told MTASK_BROKEN. MTASK_OK (also if it was closed); else why not all was sent. */
MTASK_API mtask_status mtask_stream_close(mtask_stream *stream, int64_t timeout);

/* Closes the descriptor at once: what is in the buffers is lost, and the other end of a TCP connection
   is told by a reset. Does not wait. */
MTASK_API void mtask_stream_abort(mtask_stream *stream);

/* Closes the descriptor, if it is not, without sending what is in the buffer, and frees the stream,
   which nobody may use any more. NULL is allowed. Does not wait. */
MTASK_API void mtask_stream_destroy(mtask_stream *stream);

/* ---- >>offload: functions that block ---- */

/* In a task: has a thread of mtask's run fn(arg), while the task waits for it, always until it has
   ended: neither cancellation nor limits end this wait, so `arg` may lie on the stack. Outside of a
   loop: calls it. `outcome` (NULL allowed) says how it ended. MTASK_OK, MTASK_FAILED; MTASK_INVALID (no
   fn), MTASK_NOMEM, MTASK_SYSTEM: it was not called. */
MTASK_API mtask_status mtask_offload(mtask_fn fn, void *arg, mtask_outcome *outcome);

/* Has a thread run fn on a copy of the `size` bytes at `data`, which are overwritten with what is in
   the copy then if it ends within `timeout` nanoseconds. Otherwise it goes on alone: nobody hears
   of its end, and the copy is freed then, after `drop` (NULL allowed) was called for it, to let go of
   what is in it. It must not use anything else that its caller owns. `outcome` as above. MTASK_OK,
   MTASK_FAILED; MTASK_TIMEOUT, MTASK_CANCELED: it goes on, or was never called; MTASK_INVALID,
   MTASK_NOMEM, MTASK_SYSTEM, MTASK_DEADLOCK. */
MTASK_API mtask_status mtask_offload_for(mtask_fn fn, void *data, size_t size,
                                         void (*drop)(void *data), mtask_outcome *outcome,
                                         int64_t timeout);

/* ---- >>file: files ---- */

/* Calls of files may block where nothing can be waited for: in a task they are off-loaded, unless
   what is asked for is in memory. None is cut short by cancellation or limits. */

/* As open; *fd is close-on-exec; close it by close or mtask_io_close. MTASK_OK; MTASK_NOT_FOUND: no such
   file; MTASK_SYSTEM. After an error *fd is -1. */
MTASK_API mtask_status mtask_file_open(int *fd, const char *path, int flags, unsigned mode);

/* Reads up to `capacity` bytes from `offset` on, as many as there are: `count` is less only at the
   end. MTASK_OK; MTASK_CLOSED: nothing, `offset` is at the end or beyond; MTASK_SYSTEM. */
MTASK_API mtask_status mtask_file_read(int fd, void *buffer, size_t capacity, int64_t offset,
                                       size_t *count);

/* Writes all of it from `offset` on. MTASK_OK, MTASK_SYSTEM (ENOSPC ...). */
MTASK_API mtask_status mtask_file_write(int fd, const void *data, size_t size, int64_t offset);

/* Reads a whole file of at most `limit` bytes; *data has a zero behind its end; give it back with
   mtask_file_free. MTASK_OK, MTASK_OVERFLOW (it is longer), MTASK_NOT_FOUND, MTASK_NOMEM, MTASK_SYSTEM. After an error *data is
   NULL. */
MTASK_API mtask_status mtask_file_load(const char *path, size_t limit, char **data, size_t *size);
MTASK_API void mtask_file_free(char *data);

/* Writes a whole file anew: others see the old one or all of the new one. As mtask_file_write. */
MTASK_API mtask_status mtask_file_save(const char *path, const void *data, size_t size);

/* ---- >>signal: signals as something to wait for ---- */

/* Signals of the process that are caught. */
typedef struct mtask_signals mtask_signals;

/* Catches the `count` signals from now on, instead of what they did before; several may catch the
   same. When the last is destroyed, they do again what they did. Destroy it. MTASK_OK; MTASK_INVALID: no
   such signal, or one that cannot be caught, or none; MTASK_NOMEM; MTASK_FULL: 64 of them exist;
   MTASK_SYSTEM. */
MTASK_API mtask_status mtask_signals_create(mtask_signals **signals, const int *numbers,
                                            size_t count);

/* Waits for one of them; *number receives which. One that comes several times before it is waited
   for is told of once. MTASK_OK; those of mtask_io_wait. */
MTASK_API mtask_status mtask_signals_wait(mtask_signals *signals, int *number, int64_t timeout);

/* Lets go of them. Nobody may wait any more. NULL is allowed. */
MTASK_API void mtask_signals_destroy(mtask_signals *signals);

/* ---- >>child: child processes as something to wait for ---- */

/* Waits until the child `pid` of this process has ended, and takes note of that, as waitpid; *status
   (NULL allowed) is what that says. One at a time for each child. MTASK_OK; MTASK_NOT_FOUND: no such
   child; MTASK_INVALID: pid is not positive; those of mtask_io_wait: then it can be waited for again. */
MTASK_API mtask_status mtask_child_wait(pid_t pid, int *status, int64_t timeout);

/* ---- >>serve: servers ---- */

/* What listens, accepts, and runs a handler in a task for each connection. */
typedef struct mtask_server mtask_server;

/* Called in a task of its own for each connection. The stream is sent out, closed and destroyed when
   it returns (it may have closed it before). */
typedef void mtask_handler(mtask_stream *stream, void *ctx);

# define MTASK_LOOP_PER_CPU UINT32_MAX

/* How to serve. Zero, or NULL, means the default. */
typedef struct mtask_serve_desc {
    void *ctx;              /* for the handler and on_ready */
    unsigned loops;         /* so many threads with a loop each, which share the port;
                               MTASK_LOOP_PER_CPU: one for each CPU (default: in a task, none: its
                               own loop serves; elsewhere 1) */
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

MTASK_API mtask_server_stats mtask_server_get_stats(const mtask_server *server);

/* Has it stop: it accepts no more, waits in mtask_stream_idle end, and after the grace the handlers
   that are left are cancelled. From any task or thread, also a handler. Does not wait. */
MTASK_API void mtask_server_stop(mtask_server *server);

/* Whether it has been told to. */
MTASK_API bool mtask_server_is_stopping(const mtask_server *server);

/* Waits until it has stopped and all handlers have returned. MTASK_OK; MTASK_TIMEOUT, MTASK_CANCELED;
   MTASK_DEADLOCK: called by one of its own handlers; MTASK_INVALID. */
MTASK_API mtask_status mtask_server_join(mtask_server *server, int64_t timeout);

/* Stops it, waits for that whatever happens, and frees it. Not in a handler of it: MTASK_DEADLOCK.
   One whose loop is the caller's is destroyed there. NULL is allowed. */
MTASK_API mtask_status mtask_server_destroy(mtask_server *server);

/* Starts a server, and waits until it has stopped: by mtask_server_stop (on_ready, and handlers by
   their ctx, know it), by a signal, or because the calling task is cancelled: MTASK_CANCELED. Otherwise
   as mtask_server_start. */
MTASK_API mtask_status mtask_serve(const char *address, mtask_handler *handler,
                                   const mtask_serve_desc *desc);

# ifdef __cplusplus
} /* extern "C" */
# endif

#endif /* MTASK_IO_H */
