/* mtask_proc.h 0.6.0 - processes, commands, pipes, shared memory and process pools for C

   Python's `multiprocessing` and `subprocess` in one header: the task function of a thread runs in
   a process of its own; commands run with input, captured output and time-outs, without a dead-lock;
   messages go through pipes and sockets; memory is shared by name or by inheritance; and a pool of
   processes does what a pool of threads does, and survives when one of them is killed. It stands on
   mtask_io.h, mtask_coro.h, mtask_pool.h, mtask_queue.h and mtask.h.

   USE
     Copy this file and those. In ONE .c (or .cpp) file, before any other include:

         #define MTASK_IMPLEMENTATION
         #include "mtask_proc.h"

     and in the others just `#include "mtask_proc.h"`. Compile with -pthread.

   EXAMPLE (cc -O2 -pthread example.c)

         #define MTASK_IMPLEMENTATION
         #include "mtask_proc.h"
         #include <stdio.h>

         static void *divide(void *arg) {
             long n = (long)(intptr_t)arg;
             if (n == 0)
                 return mtask_fail(MTASK_INVALID, "process %ld cannot divide by 0", (long)getpid());
             return (void *)(intptr_t)(100 / n);
         }

         int main(int argc, char **argv) {
             mtask_outcome outcome;
             mtask_cmd_result listing;
             mtask_proc_init(argc, argv);
             for (intptr_t n = 0; n < 3; n++) {
                 mtask_proc *process;
                 if (mtask_proc_start(&process, divide, (void *)n) != MTASK_OK)
                     return 1;
                 if (mtask_proc_join(process, &outcome, MTASK_FOREVER) == MTASK_OK)
                     printf("100 / %ld = %ld\n", (long)n, (long)(intptr_t)outcome.value);
                 else
                     printf("failed: %s\n", outcome.text);
                 mtask_proc_close(process);
             }
             const char *command[] = {"ls", "-l", "/", NULL};
             mtask_cmd_opts options = {.capture = true, .timeout = MTASK_SEC(10)};
             if (mtask_cmd_run(command, &options, &listing) == MTASK_OK)
                 printf("ls ended with %d and said %zu bytes\n", listing.code, listing.out.size);
             mtask_cmd_result_free(&listing);
             return 0;
         }

   WHAT HOLDS FOR ALL OF IT
     - Every call that waits may be made by a thread or by a task of a loop, which is parked meanwhile;
       it takes a time-out, and a cancelled task gets MTASK_CANCELED.
     - Descriptors that this header makes are close-on-exec: a command inherits 0, 1, 2, and those that
       are named; nothing else, whoever opened it.
     - Nothing is left behind: no zombies, no descriptors, no names of shared memory; also when a
       process is killed. A process that is killed while it holds a lock, runs a task or sends a
       message costs what it was doing, and others are told.
     - Handles belong to the process that made them: in a forked child those of its parent's processes,
       commands, listeners and pools answer MTASK_INVALID or MTASK_BROKEN. Connections and shared
       memory are inherited.
     - fork copies the calling thread only. Locks of mtask and of the C library are made usable in the
       child; those of other libraries may stay locked by threads that are not there. A program that
       has such uses MTASK_PROC_SPAWN or MTASK_PROC_FORKSERVER.

   COSTS
     A forked process: fork, and a few microseconds. A command: posix_spawn. A task of a pool: no
     system call while there is work; its bytes lie in memory that the processes share, up to
     MTASK_PROCPOOL_INLINE of them; more go through a socket.

   CONTENTS: grep for the tag.
     >>buf  >>proc  >>cmd  >>conn  >>conn-listener  >>shm  >>array  >>arena  >>procpool  >>procimap
     implementation: TODO
     platforms: >>linux-proc  >>posix-proc

   OPTIONS (define them before the include, the same in every file)
     MTASK_PROCPOOL_INLINE  bytes of a task's input, and of its result, that need no system call
                            (default: 960)
     MTASK_PROCPOOL_SLOTS   tasks that a pool's processes can see at a time, a power of 2
                            (default: 1024)
     and those of the headers on which it stands. MTASK_PROC_IMPLEMENTATION instead of
     MTASK_IMPLEMENTATION implements this header alone, in a file other than those that implement the
     others.

   LICENCE: MIT or public domain, at your choice; see the end of mtask.h. */

#include "mtask_io.h"

#ifndef MTASK_PROC_H
# define MTASK_PROC_H

# include <sys/types.h>

# ifndef MTASK_PROCPOOL_INLINE
#  define MTASK_PROCPOOL_INLINE 960
# endif
# ifndef MTASK_PROCPOOL_SLOTS
#  define MTASK_PROCPOOL_SLOTS 1024
# endif

# ifdef __cplusplus
extern "C" {
# endif

/* ---- >>buf: bytes that grow ---- */

/* Bytes in memory of mtask's. All zero is an empty one. Behind the last byte lies a zero, once there
   is memory: so it can be read as text. Free it. One task at a time uses it. */
typedef struct mtask_buf {
    char *data;      /* NULL: no memory yet */
    size_t size;     /* bytes that are used */
    size_t capacity; /* bytes that there are, without the zero */
} mtask_buf;

/* Makes room for `more` bytes behind those that are used; they may be written, and then counted in
   buf->size. MTASK_OK, MTASK_NOMEM: nothing changed; MTASK_INVALID (NULL). */
MTASK_API mtask_status mtask_buf_reserve(mtask_buf *buf, size_t more);

/* Appends bytes, which must not lie in the buffer itself. As mtask_buf_reserve. */
MTASK_API mtask_status mtask_buf_append(mtask_buf *buf, const void *data, size_t size);

/* Appends a formatted text. Also MTASK_INVALID: a format that cannot be. */
MTASK_API mtask_status mtask_buf_printf(mtask_buf *buf, const char *format, ...)
    MTASK__PRINTF(2, 3);

/* Frees the memory; the buffer is empty again. */
MTASK_API void mtask_buf_free(mtask_buf *buf);

/* ---- >>proc: multiprocessing.Process ---- */

/* A child process that runs a task. */
typedef struct mtask_proc mtask_proc;

/* A task for where memory is not shared: reads the `size` bytes at `in`, appends its result to
   `out`. What it returns is its status; mtask_fail gives the text: after a call of that, the task
   has failed even if it returns MTASK_OK. `in` is aligned to 16 bytes and may be NULL if size is
   0. */
typedef mtask_status (*mtask_bytes_fn)(const void *in, size_t size, mtask_buf *out);

/* How a process comes to be. */
typedef enum mtask_proc_method {
    MTASK_PROC_DEFAULT, /* what mtask_proc_set_method says, MTASK_PROC_FORK at first */
    MTASK_PROC_FORK,    /* a copy of this process, with all its memory and descriptors */
    MTASK_PROC_SPAWN,   /* this program, started anew: no memory, no descriptors but those named */
    MTASK_PROC_FORKSERVER /* a copy of a process with one thread that was spawned for that once */
} mtask_proc_method;

/* What to run, and how. Zero means the default. */
typedef struct mtask_proc_desc {
    mtask_fn fn; /* this, or `call` (required). With MTASK_PROC_FORK, or with arg NULL */
    void *arg;
    mtask_bytes_fn call; /* a function of this program, or of a library that the new process has
                            loaded before it calls mtask_proc_init */
    const void *in;      /* copied */
    size_t in_size;
    mtask_proc_method method; /* (default: the process's) */
    const char *name;         /* copied (default: "Process-N") */
    bool daemon; /* it is killed when this process ends, however that happens; mtask_proc_join_all
                    ends it (default: false) */
    const unsigned *cpus; /* numbers of the CPUs that it may use (default: the caller's) */
    size_t cpu_count;     /* how many of them */
    int nice;             /* is added to its priority number, as by nice (default: 0) */
    const int *fds; /* descriptors that it has under the same numbers, beside 0, 1 and 2; at most
                       200, none below 3 (with MTASK_PROC_FORK: it has all) */
    size_t fd_count;
} mtask_proc_desc;

/* To be called first in main by programs that use MTASK_PROC_SPAWN or MTASK_PROC_FORKSERVER: does
   nothing, except in the processes made so: there it runs the task and does not return. */
MTASK_API void mtask_proc_init(int argc, char **argv);

/* Sets, or tells, which method MTASK_PROC_DEFAULT means. MTASK_INVALID: no such method, or
   MTASK_PROC_DEFAULT. */
MTASK_API mtask_status mtask_proc_set_method(mtask_proc_method method);
MTASK_API mtask_proc_method mtask_proc_get_method(void);

/* Starts a process that runs fn(arg). What it returns, a number or an address in shared memory, is
   the outcome's value. stdout and stderr are flushed before. When fn returns, the process waits for
   its threads and processes that are no daemons, flushes stdout and stderr, and ends without atexit
   functions; its exit code is 0, or 1 if it failed. Join or release it. MTASK_INVALID: no fn; or arg
   is not NULL and memory is not shared. MTASK_NOMEM; MTASK_SYSTEM: errno says why (EAGAIN: too many
   processes). Does not wait for the process to run; MTASK_PROC_SPAWN and _FORKSERVER wait until it
   has been made. */
MTASK_API mtask_status mtask_proc_start(mtask_proc **proc, mtask_fn fn, void *arg);

/* The same as the description says. Also MTASK_NOT_FOUND: `call` (or `fn`) is in no program or
   library that can be found again; MTASK_UNSUPPORTED: no affinity on this system; mtask_proc_init has
   not been called, and the method needs it; MTASK_BROKEN: the fork server ended in the midst of it. */
MTASK_API mtask_status mtask_proc_start_ex(mtask_proc **proc, const mtask_proc_desc *desc);

/* Waits until it has ended, at most `timeout` nanoseconds, and fills `outcome` (NULL allowed).
   Several may join, and again. MTASK_OK: the task returned. MTASK_FAILED: outcome->status and text
   say why: what mtask_fail was given; MTASK_FAILED: it ended by exit with another code than 0 (if by
   exit(0), MTASK_OK with value NULL); MTASK_CRASHED: by a signal. MTASK_TIMEOUT, MTASK_CANCELED (the
   calling task), MTASK_INVALID (negative; not a child of this process), MTASK_SYSTEM. */
MTASK_API mtask_status mtask_proc_join(mtask_proc *proc, mtask_outcome *outcome, int64_t timeout);

/* Appends what a `call` has appended to its `out` to `result`. MTASK_OK; MTASK_TIMEOUT: it has not
   ended; MTASK_FAILED: it ended without a result; MTASK_NOMEM, MTASK_INVALID, MTASK_SYSTEM. Does not
   wait. */
MTASK_API mtask_status mtask_proc_result(mtask_proc *proc, mtask_buf *result);

/* Whether it has not ended. Does not wait. */
MTASK_API bool mtask_proc_is_alive(mtask_proc *proc);

/* Its process number, which may be another's once it has been joined; its name. */
MTASK_API pid_t mtask_proc_pid(const mtask_proc *proc);
MTASK_API const char *mtask_proc_name(const mtask_proc *proc);

/* *code receives its exit code, or -N if signal N ended it. MTASK_OK; MTASK_TIMEOUT: it has not
   ended; MTASK_INVALID. Does not wait. */
MTASK_API mtask_status mtask_proc_exitcode(mtask_proc *proc, int *code);

/* Sends it a signal: SIGTERM, SIGKILL, or any. MTASK_OK, also if it has ended, and then nobody gets
   it; MTASK_INVALID (no such signal; not a child of this process), MTASK_SYSTEM. */
MTASK_API mtask_status mtask_proc_terminate(mtask_proc *proc);
MTASK_API mtask_status mtask_proc_kill(mtask_proc *proc);
MTASK_API mtask_status mtask_proc_signal(mtask_proc *proc, int number);

/* *fd receives a descriptor that becomes readable when it ends, for mtask_conn_wait, mtask_io_wait,
   poll. It is the handle's: do not read or close it. MTASK_OK, MTASK_INVALID, MTASK_SYSTEM,
   MTASK_UNSUPPORTED (a forked process, where there are no pidfds). Does not wait. */
MTASK_API mtask_status mtask_proc_sentinel(mtask_proc *proc, int *fd);

/* Frees the handle of a process that has ended. MTASK_OK (also NULL); MTASK_INVALID: it runs, nothing
   happened. Nobody may use the handle any more. Does not wait. */
MTASK_API mtask_status mtask_proc_close(mtask_proc *proc);

/* Lets go of the handle, whether it runs or not; one that runs is taken note of when it has ended, by
   a later start, enumerate or join_all. NULL is allowed. Does not wait. */
MTASK_API void mtask_proc_release(mtask_proc *proc);

/* What there is to know of a process: a snapshot. */
typedef struct mtask_proc_info {
    pid_t pid;
    pid_t parent; /* the process that started it */
    bool daemon;
    bool started;               /* by mtask_proc_start, or a pool; else it is a main process */
    char name[MTASK_NAME_SIZE]; /* "MainProcess", "Process-1" */
} mtask_proc_info;

/* The calling process. */
MTASK_API mtask_proc_info mtask_proc_current(void);

/* *fd receives a descriptor that becomes readable when the process ends that started this one. It
   stays mtask's. MTASK_OK; MTASK_NOT_FOUND: mtask did not start this process. */
MTASK_API mtask_status mtask_proc_parent_sentinel(int *fd);

/* Writes the children that run, started by mtask_proc_start, into `infos`, at most `capacity`;
   `count` receives how many there are. MTASK_OK; MTASK_OVERFLOW: more than fit. Does not wait. */
MTASK_API mtask_status mtask_proc_enumerate(mtask_proc_info *infos, size_t capacity, size_t *count);

/* Waits until all children have ended that are no daemons, at most `timeout` nanoseconds; then ends
   the daemons, by SIGTERM and a second later by SIGKILL: what Python does at exit. Call it at the end
   of main. Handles stay to be closed. MTASK_OK, MTASK_TIMEOUT (no daemon was ended), MTASK_CANCELED,
   MTASK_INVALID (negative), MTASK_SYSTEM. */
MTASK_API mtask_status mtask_proc_join_all(int64_t timeout);

/* Starts the process that MTASK_PROC_FORKSERVER forks from; otherwise the first use does. Early is
   better: it inherits 0, 1 and 2, the environment and the working directory of now. `preload` (NULL
   allowed), a function of this program, runs in it first. If it has been killed, the next use starts
   it anew. MTASK_OK, also if it runs; and as mtask_proc_start_ex. */
MTASK_API mtask_status mtask_forkserver_start(void (*preload)(void));

/* Ends it; processes that it made go on. MTASK_OK, also if there is none. */
MTASK_API mtask_status mtask_forkserver_stop(void);

/* Its process number; 0 if there is none. */
MTASK_API pid_t mtask_forkserver_pid(void);

/* ---- >>cmd: subprocess ---- */

/* Where a command's input comes from, or its output goes. */
typedef enum mtask_cmd_stdio {
    MTASK_CMD_INHERIT,  /* where this process's does (default) */
    MTASK_CMD_PIPE,     /* a pipe to this process */
    MTASK_CMD_NULL,     /* /dev/null */
    MTASK_CMD_FD,       /* the descriptor that stands beside it */
    MTASK_CMD_TO_STDOUT /* of `err`: where `out` goes */
} mtask_cmd_stdio;

/* How to run a command. Zero, or NULL, means the default. */
typedef struct mtask_cmd_opts {
    const void *input; /* is written to its input (default: none) */
    size_t input_size;
    bool capture;    /* out = err = MTASK_CMD_PIPE; with err = MTASK_CMD_TO_STDOUT, both in one */
    size_t limit;    /* most bytes that are captured of `out`, and of `err` (default: no limit) */
    int64_t timeout; /* mtask_cmd_run: nanoseconds, then it is killed, with all its group (default:
                        no limit) */
    bool check;      /* mtask_cmd_run: another exit code than 0 is MTASK_FAILED */
    bool shell;      /* argv[0] is a line for /bin/sh; what follows are $0, $1 ... */
    bool group;      /* it gets a process group of its own: signals reach what it starts, too, and
                        the terminal's do not reach it (default: only mtask_cmd_run with a timeout or
                        a limit) */
    bool session;    /* it gets a session of its own, and so a group */
    const char *cwd; /* its working directory (default: this process's) */
    const char *const *env; /* its whole environment: "NAME=value" ... NULL (default: this
                               process's). Its PATH is where the program is looked for */
    mtask_cmd_stdio in;     /* with `input`: MTASK_CMD_PIPE */
    mtask_cmd_stdio out;
    mtask_cmd_stdio err;
    int in_fd; /* of MTASK_CMD_FD */
    int out_fd;
    int err_fd;
    const int *fds; /* more descriptors that it inherits, under the same numbers; at most 200 */
    size_t fd_count;
} mtask_cmd_opts;

/* How a command ended. */
typedef struct mtask_cmd_result {
    int code;      /* its exit code, or -N if signal N ended it */
    mtask_buf out; /* what was captured */
    mtask_buf err;
} mtask_cmd_result;

/* Runs the program argv[0], looked for in PATH if there is no slash in it, with the arguments argv,
   which ends in NULL, and waits for its end; feeds its input and captures its output meanwhile.
   `result` (NULL allowed) need not be zeroed before, is filled in any case, and is freed by
   mtask_cmd_result_free. MTASK_OK: it ended, result->code says how. MTASK_FAILED: `check`, and its
   code was not 0. MTASK_NOT_FOUND: no such program or directory. MTASK_TIMEOUT: killed;
   MTASK_OVERFLOW: killed, because it wrote more than `limit`; MTASK_CANCELED: killed, the calling
   task is cancelled: what was captured is there. MTASK_INVALID (no program; a negative time-out; a
   mode that cannot be), MTASK_NOMEM, MTASK_SYSTEM (EACCES: not a program ...). It ends only when
   all who hold the captured ends have closed them. Input that the command does not read is
   dropped. */
MTASK_API mtask_status mtask_cmd_run(const char *const *argv, const mtask_cmd_opts *opts,
                                     mtask_cmd_result *result);

/* Frees what is in it. */
MTASK_API void mtask_cmd_result_free(mtask_cmd_result *result);

/* A command that runs. One task or thread at a time uses it; mtask_cmd_signal any. */
typedef struct mtask_cmd mtask_cmd;

/* Starts a command; `input`, `limit`, `timeout` and `check` of the options are not looked at, but
   that `input` asks for a pipe. Destroy it. As mtask_cmd_run. Does not wait for its end. */
MTASK_API mtask_status mtask_cmd_start(mtask_cmd **cmd, const char *const *argv,
                                       const mtask_cmd_opts *opts);

/* The ends of its pipes (MTASK_CMD_PIPE), for mtask_io_read, mtask_io_write, mtask_stream_open; -1
   if there is none (any more). They stay the command's. */
MTASK_API int mtask_cmd_stdin(const mtask_cmd *cmd);
MTASK_API int mtask_cmd_stdout(const mtask_cmd *cmd);
MTASK_API int mtask_cmd_stderr(const mtask_cmd *cmd);

/* Closes its input: it reads the end of it. */
MTASK_API void mtask_cmd_close_stdin(mtask_cmd *cmd);

/* Its process number. */
MTASK_API pid_t mtask_cmd_pid(const mtask_cmd *cmd);

/* Writes `input`, closes its input, reads all its output until that ends, and waits for its end,
   however much either side writes. MTASK_OK, MTASK_TIMEOUT, MTASK_CANCELED: it goes on, nothing is
   lost: call it again, with the same input, whose rest is written then; MTASK_OVERFLOW: more than
   `limit` bytes (0: no limit); result->out and err are what has come; MTASK_NOMEM, MTASK_INVALID,
   MTASK_SYSTEM. After MTASK_OK what was captured is in `result` (NULL: is dropped), which need not
   be zeroed before; else it stays with the command, and the result is empty. */
MTASK_API mtask_status mtask_cmd_communicate(mtask_cmd *cmd, const void *input, size_t size,
                                             size_t limit, mtask_cmd_result *result,
                                             int64_t timeout);

/* Waits for its end, at most `timeout` nanoseconds; *code (NULL allowed) receives its exit code, or
   -N if signal N ended it. Pipes are not read meanwhile. MTASK_OK, MTASK_TIMEOUT, MTASK_CANCELED,
   MTASK_INVALID, MTASK_SYSTEM. */
MTASK_API mtask_status mtask_cmd_wait(mtask_cmd *cmd, int *code, int64_t timeout);

/* mtask_cmd_wait with MTASK_NOWAIT. */
MTASK_API mtask_status mtask_cmd_poll(mtask_cmd *cmd, int *code);

/* Sends a signal to it, or, if it has one of its own, to its group. MTASK_OK, also if it has ended,
   and then nobody gets it; MTASK_INVALID (no such signal), MTASK_SYSTEM. */
MTASK_API mtask_status mtask_cmd_signal(mtask_cmd *cmd, int number);
MTASK_API mtask_status mtask_cmd_terminate(mtask_cmd *cmd);
MTASK_API mtask_status mtask_cmd_kill(mtask_cmd *cmd);

/* Closes its pipes, kills it (its group) if it runs, waits for that, and frees the handle. NULL is
   allowed. */
MTASK_API void mtask_cmd_destroy(mtask_cmd *cmd);

/* ---- >>conn: multiprocessing.Pipe and Connection ---- */

/* One end of a connection that carries whole messages, of any size. One task or thread at a time
   sends, one receives. */
typedef struct mtask_conn mtask_conn;

/* Two ends connected to each other; if not `duplex`, `a` only receives and `b` only sends. A forked
   child has them, too, and closes the one that it does not use: as long as one process has an end,
   the other end does not see its closing. Messages up to 16 KiB are sent at once or not at all; so
   several processes may send them through one end, and several receive. Close both. MTASK_OK,
   MTASK_NOMEM, MTASK_SYSTEM. */
MTASK_API mtask_status mtask_pipe(mtask_conn **a, mtask_conn **b, bool duplex);

/* The descriptor: to wait for, to hand to another process. -1: NULL. */
MTASK_API int mtask_conn_fd(const mtask_conn *conn);

/* Makes a connection of the descriptor of one, as got from another process; then it is its own.
   MTASK_OK, MTASK_NOMEM, MTASK_INVALID (not a socket), MTASK_SYSTEM: then it is still the caller's. */
MTASK_API mtask_status mtask_conn_open(mtask_conn **conn, int fd);

/* Sends one message, also an empty one, waiting for room. MTASK_OK. MTASK_BROKEN: nobody is at the
   other end, or a message was cut short before. MTASK_TIMEOUT, MTASK_CANCELED: nothing was sent; or,
   of a message of more than 16 KiB, a part of it: then later sends answer MTASK_BROKEN.
   MTASK_INVALID (negative; the end only receives), MTASK_NOMEM, MTASK_DEADLOCK, MTASK_SYSTEM. */
MTASK_API mtask_status mtask_conn_send(mtask_conn *conn, const void *data, size_t size,
                                       int64_t timeout);

/* Receives the next message, which replaces what is in `message`. MTASK_OK. MTASK_CLOSED: the other
   end was closed, and all it sent was received; or in the midst of a message, which is lost.
   MTASK_OVERFLOW: it is longer than the limit: the connection is of no use any more (then and after
   what is no message: MTASK_BROKEN). MTASK_TIMEOUT, MTASK_CANCELED, MTASK_NOMEM: nothing is lost.
   MTASK_INVALID (negative; the end only sends), MTASK_DEADLOCK, MTASK_SYSTEM. */
MTASK_API mtask_status mtask_conn_recv(mtask_conn *conn, mtask_buf *message, int64_t timeout);

/* The same into memory of the caller's; *size receives how long it is. Also MTASK_OVERFLOW: it does
   not fit; *size is how long it is, and it can still be received. */
MTASK_API mtask_status mtask_conn_recv_into(mtask_conn *conn, void *buffer, size_t capacity,
                                            size_t *size, int64_t timeout);

/* The same, with `count` descriptors, at most 16, of which the receiver gets copies. MTASK_INVALID
   also: too many. MTASK_UNSUPPORTED: not a Unix socket. */
MTASK_API mtask_status mtask_conn_send_fds(mtask_conn *conn, const void *data, size_t size,
                                           const int *fds, size_t count, int64_t timeout);

/* The same; fds receives the descriptors, close-on-exec, *count how many. Those beyond `capacity`
   are closed, as are those that come with a message received by another function. */
MTASK_API mtask_status mtask_conn_recv_fds(mtask_conn *conn, mtask_buf *message, int *fds,
                                           size_t capacity, size_t *count, int64_t timeout);

/* Waits until there is a message, or its beginning, or the end. MTASK_OK, MTASK_TIMEOUT,
   MTASK_CANCELED, MTASK_INVALID, MTASK_DEADLOCK, MTASK_SYSTEM. */
MTASK_API mtask_status mtask_conn_poll(mtask_conn *conn, int64_t timeout);

/* Longest message, in bytes, that it receives (0: no limit, the default; memory is taken only as the
   bytes arrive). */
MTASK_API void mtask_conn_set_limit(mtask_conn *conn, size_t limit);

/* Closes this end and frees it; what was sent can still be received. NULL is allowed. MTASK_OK,
   MTASK_SYSTEM. */
MTASK_API mtask_status mtask_conn_close(mtask_conn *conn);

/* One of several to wait for. */
typedef struct mtask_conn_case {
    mtask_conn *conn; /* NULL: a descriptor, */
    int fd;           /* this, a sentinel, say; negative: none */
    bool ready;       /* becomes whether there is something: input, or the end */
} mtask_conn_case;

/* Waits until at least one of `count`, at most 1024, is ready, as mtask_conn_poll; then `ready` says
   which. MTASK_OK, MTASK_TIMEOUT, MTASK_CANCELED, MTASK_INVALID, MTASK_NOMEM, MTASK_SYSTEM. */
MTASK_API mtask_status mtask_conn_wait(mtask_conn_case *cases, size_t count, int64_t timeout);

/* ---- >>conn-listener: multiprocessing.connection.Listener and Client ---- */

/* Computes the HMAC of `size` bytes at `data` by the digest of that name ("sha256", "md5") into
   `mac`, 64 bytes at most, and *mac_size. False: it does not know that digest, or could not. */
typedef bool (*mtask_hmac_fn)(const char *digest, const void *key, size_t key_size,
                              const void *data, size_t size, unsigned char *mac, size_t *mac_size,
                              void *ctx);

/* How connections are made. Zero, or NULL, means the default. The wire format, and the challenge,
   are those of Python's multiprocessing.connection: send_bytes and recv_bytes there. */
typedef struct mtask_conn_desc {
    const void *key; /* both sides prove to each other that they know it (default: they do not) */
    size_t key_size;
    mtask_hmac_fn hmac; /* required with a key; knows "sha256" */
    void *ctx;          /* for hmac */
    bool md5; /* also talk to Python up to 3.11, which knows only HMAC-MD5, as must `hmac` then */
    size_t limit;     /* as mtask_conn_set_limit */
    int64_t patience; /* accept: the other side must have proved it within so many nanoseconds
                         (default: 5 seconds) */
    mtask_listen_desc listen;
} mtask_conn_desc;

/* What accepts connections. Any number of tasks and threads accept. */
typedef struct mtask_conn_listener mtask_conn_listener;

/* Listens on "host:port" or "unix:/path", as mtask_tcp_listen; the file of a Unix socket goes when
   it is closed. The key is copied. MTASK_OK, MTASK_INVALID (a key without hmac), MTASK_NOMEM, and
   those of mtask_tcp_listen. */
MTASK_API mtask_status mtask_conn_listener_open(mtask_conn_listener **listener, const char *address,
                                                const mtask_conn_desc *desc);

/* Accepts a connection and has it prove that it knows the key. MTASK_OK. MTASK_AUTH: it gave a wrong
   one, or none in time, or what is not this protocol; it is closed; accept goes on to work. Those of
   mtask_tcp_accept. After an error *conn is NULL. */
MTASK_API mtask_status mtask_conn_listener_accept(mtask_conn_listener *listener, mtask_conn **conn,
                                                  int64_t timeout);

/* Where it listens. */
MTASK_API mtask_status mtask_conn_listener_address(const mtask_conn_listener *listener,
                                                   mtask_address *address);

/* Its descriptor: readable when there is somebody to accept. */
MTASK_API int mtask_conn_listener_fd(const mtask_conn_listener *listener);

/* Stops listening and frees it; nobody may use it any more. NULL is allowed. */
MTASK_API void mtask_conn_listener_close(mtask_conn_listener *listener);

/* Connects to "host:port" or "unix:/path", and proves that it knows the key. MTASK_OK; MTASK_AUTH: the
   listener did not accept it, or did not prove its own; those of mtask_tcp_connect; MTASK_INVALID (a
   key without hmac). After an error *conn is NULL. */
MTASK_API mtask_status mtask_conn_connect(mtask_conn **conn, const char *address,
                                          const mtask_conn_desc *desc, int64_t timeout);

/* ---- >>shm: multiprocessing.shared_memory ---- */

# define MTASK_SHM_NAME 64 /* bytes of a name, the closing zero included */

/* A handle on a block of shared memory, in the caller's memory; what stands in it may be read. Do not
   copy it. A forked child has the block at the same address, and closes its own copy of the handle
   or not. */
typedef struct mtask_shm {
    void *data;                /* where it lies here, aligned to a page; NULL: closed */
    size_t size;               /* its bytes, as asked for by who made it */
    int fd;                    /* hand it to a process to have it attach */
    pid_t creator;             /* the process that made it; 0: attached */
    char name[MTASK_SHM_NAME]; /* "": anonymous */
} mtask_shm;

/* Makes a block of `size` bytes, all zero. `name` (NULL: none): letters, digits and ".-_", at most
   MTASK_SHM_NAME - 1; processes of the same user find it by that, while the creator lives and has not
   closed it: the name goes with it, however it ends. Memory is taken as it is used; it is given
   back when the last who has it has closed it or ended. Close it. MTASK_OK; MTASK_INVALID (size 0, a
   name that cannot be); MTASK_NOMEM; MTASK_SYSTEM (EEXIST: another has that name). */
MTASK_API mtask_status mtask_shm_create(mtask_shm *shm, const char *name, size_t size);

/* Attaches a block by its name, or by a descriptor from another process's `fd`, which stays the
   caller's. Close it. MTASK_OK; MTASK_NOT_FOUND: no such name (any more); MTASK_INVALID; MTASK_NOMEM;
   MTASK_SYSTEM (EACCES: another user's). */
MTASK_API mtask_status mtask_shm_attach(mtask_shm *shm, const char *name);
MTASK_API mtask_status mtask_shm_attach_fd(mtask_shm *shm, int fd);

/* Takes the name away; who has the block keeps it. By the creator only: MTASK_NOT_OWNER. MTASK_OK,
   MTASK_NOT_FOUND (it has none, any more), MTASK_SYSTEM. */
MTASK_API mtask_status mtask_shm_unlink(mtask_shm *shm);

/* Lets go of the block here: the memory is gone from this process's addresses; by the creator also
   the name. MTASK_OK, MTASK_INVALID (not open), MTASK_SYSTEM. */
MTASK_API mtask_status mtask_shm_close(mtask_shm *shm);

/* ---- >>array: multiprocessing.Value and Array ---- */

struct mtask__array;

/* A handle on items in shared memory, with a lock; of one item it is Python's Value. As mtask_shm. */
typedef struct mtask_array {
    mtask_shm memory;
    struct mtask__array *core;
} mtask_array;

/* Makes `count` items of `item_size` bytes, all zero, aligned to 64. `name`, statuses: as
   mtask_shm_create; MTASK_OVERFLOW: too many; MTASK_UNSUPPORTED: no locks between processes. */
MTASK_API mtask_status mtask_array_create(mtask_array *array, const char *name, size_t count,
                                          size_t item_size);

/* Attaches one, by name or descriptor (array->memory.fd). As mtask_shm_attach; MTASK_INVALID: it is
   no array. */
MTASK_API mtask_status mtask_array_attach(mtask_array *array, const char *name);
MTASK_API mtask_status mtask_array_attach_fd(mtask_array *array, int fd);

/* Where the items are, to be used while it is locked, or by who knows that it is alone; how many,
   and how long each is. */
MTASK_API void *mtask_array_data(const mtask_array *array);
MTASK_API size_t mtask_array_count(const mtask_array *array);
MTASK_API size_t mtask_array_item_size(const mtask_array *array);

/* Locks it, waiting at most `timeout` nanoseconds. MTASK_OK. MTASK_OWNER_DEAD: locked, but who had it
   died before it unlocked: items may be half changed. MTASK_TIMEOUT, MTASK_CANCELED, MTASK_DEADLOCK
   (the caller has it), MTASK_INVALID, MTASK_BROKEN, MTASK_SYSTEM. */
MTASK_API mtask_status mtask_array_lock(mtask_array *array, int64_t timeout);

/* MTASK_OK, MTASK_NOT_OWNER. */
MTASK_API mtask_status mtask_array_unlock(mtask_array *array);

/* Copies an item from or to `item`, locked meanwhile. MTASK_OK; MTASK_NOT_FOUND: no such index; those
   of mtask_array_lock, but never MTASK_OWNER_DEAD: then it goes on. */
MTASK_API mtask_status mtask_array_get(mtask_array *array, size_t index, void *item);
MTASK_API mtask_status mtask_array_set(mtask_array *array, size_t index, const void *item);

/* As mtask_shm_close; nobody may hold the lock through this handle. */
MTASK_API mtask_status mtask_array_close(mtask_array *array);

/* ---- >>arena: shared memory in pieces ---- */

struct mtask__arena;

/* A handle on shared memory from which pieces are taken: for mutexes, semaphores, events, conditions,
   barriers and queues made with MTASK_SHARED, and for data. As mtask_shm. In processes that attach it
   (other than forked ones) it lies elsewhere: there a piece is found by its offset, or as the root. */
typedef struct mtask_arena {
    mtask_shm memory;
    struct mtask__arena *core;
} mtask_arena;

/* Makes one with room for `size` bytes of pieces, each rounded up to a power of 2, at least 64. As
   mtask_array_create. */
MTASK_API mtask_status mtask_arena_create(mtask_arena *arena, const char *name, size_t size);

/* Attaches one, by name or descriptor (arena->memory.fd). As mtask_array_attach. */
MTASK_API mtask_status mtask_arena_attach(mtask_arena *arena, const char *name);
MTASK_API mtask_status mtask_arena_attach_fd(mtask_arena *arena, int fd);

/* Takes a piece of `size` bytes, all zero, aligned to 64. MTASK_OK; MTASK_NOMEM: the arena is full;
   MTASK_INVALID (size 0), MTASK_BROKEN, MTASK_SYSTEM. Any process; a process that is killed in the
   midst of it costs at most the piece. */
MTASK_API mtask_status mtask_arena_alloc(mtask_arena *arena, size_t size, void **piece);

/* Gives a piece back. MTASK_OK (also NULL); MTASK_INVALID: not a piece, or given back already. */
MTASK_API mtask_status mtask_arena_free(mtask_arena *arena, void *piece);

/* A piece by a number that is the same in all processes, and back. 0 and NULL are each other's. */
MTASK_API size_t mtask_arena_offset(const mtask_arena *arena, const void *piece);
MTASK_API void *mtask_arena_at(const mtask_arena *arena, size_t offset);

/* Sets, or tells, the piece from which all else is found; NULL at first. */
MTASK_API void mtask_arena_set_root(mtask_arena *arena, void *piece);
MTASK_API void *mtask_arena_root(const mtask_arena *arena);

/* Bytes that can still be taken, at most. */
MTASK_API size_t mtask_arena_left(const mtask_arena *arena);

/* As mtask_shm_close. */
MTASK_API mtask_status mtask_arena_close(mtask_arena *arena);

/* ---- >>procpool: ProcessPoolExecutor, multiprocessing.Pool ---- */

/* Some processes that run tasks. Any thread or task of the process that made it may call any
   function, except that mtask_procpool_destroy comes last. Callbacks run in a thread of the pool's:
   they must not wait for the pool's tasks. */
typedef struct mtask_procpool mtask_procpool;

/* How to make a pool. Zero, or NULL, means the default. */
typedef struct mtask_procpool_desc {
    unsigned workers;         /* processes, at most 256 (default: mtask_cpu_count) */
    mtask_proc_method method; /* (default: the process's) */
    const char *name;         /* they are called NAME-0, NAME-1 ... (default: "ProcPool-N") */
    /* Runs first in each process; its `out` is dropped. If it fails, or the process ends in it, the
       pool is broken: what waits fails with MTASK_BROKEN and the text of that (default: none). */
    mtask_bytes_fn init;
    const void *init_in; /* for it; copied */
    size_t init_size;
    size_t max_tasks;     /* a process ends after so many tasks, and another takes its place
                             (default: no limit) */
    int64_t time_limit;   /* a task that takes longer than so many nanoseconds is killed, with its
                             process: MTASK_TIMEOUT is its outcome (default: no limit) */
    size_t backlog;       /* most tasks that have not ended (default: no limit) */
    bool reject;          /* mtask_procpool_submit answers MTASK_FULL if the backlog is full
                             (default: it waits) */
    const unsigned *cpus; /* as mtask_proc_desc */
    size_t cpu_count;
    int nice;
} mtask_procpool_desc;

/* Starts the processes, daemons all, and a thread that looks after them. Destroy it. MTASK_OK,
   MTASK_INVALID, MTASK_NOMEM, MTASK_SYSTEM, those of mtask_proc_start_ex: then nothing is left
   behind. */
MTASK_API mtask_status mtask_procpool_create(mtask_procpool **pool,
                                             const mtask_procpool_desc *desc);

/* How many processes it has; writes their numbers to `pids` (NULL allowed), at most `capacity`. */
MTASK_API size_t mtask_procpool_pids(mtask_procpool *pool, pid_t *pids, size_t capacity);

/* Has a process run fn on a copy of the `size` bytes at `in`. `future` (NULL: not wanted) receives a
   reference on its result; see mtask_future_bytes. It ends with the status and text of fn;
   MTASK_CRASHED: the process that ran it ended in the midst of it, the text says by which signal;
   others go on, and another process takes its place. mtask_future_cancel works until a process has
   begun it. Tasks begin in the order in which they were submitted. If the backlog is full, waits,
   unless the pool rejects: MTASK_FULL. MTASK_OK, MTASK_CLOSED, MTASK_BROKEN (an init failed; after
   fork), MTASK_INVALID (no fn), MTASK_NOT_FOUND (as mtask_proc_start_ex), MTASK_NOMEM,
   MTASK_CANCELED. */
MTASK_API mtask_status mtask_procpool_submit(mtask_procpool *pool, mtask_bytes_fn fn,
                                             const void *in, size_t size, mtask_future **future);

/* A task with all that can be said about it. */
typedef struct mtask_proctask_desc {
    mtask_bytes_fn fn; /* required */
    const void *in;    /* copied */
    size_t in_size;
    int64_t time_limit; /* as of the pool (default: the pool's) */
    /* Runs in the parent when the task has succeeded, before its future ends (default: none). */
    void (*on_success)(const void *data, size_t size, void *ctx);
    /* Runs likewise when it has failed, or was cancelled (default: none). */
    void (*on_failure)(const mtask_outcome *outcome, void *ctx);
    void *ctx; /* for these two */
} mtask_proctask_desc;

/* Submits a task as the description says; waits for room in the backlog at most `timeout`
   nanoseconds: MTASK_FULL. Otherwise as mtask_procpool_submit. */
MTASK_API mtask_status mtask_procpool_submit_ex(mtask_procpool *pool,
                                                const mtask_proctask_desc *desc,
                                                mtask_future **future, int64_t timeout);

/* Submits a task and waits for its end (Python's apply): its result is appended to `out` (NULL:
   dropped), `outcome` (NULL allowed) says how it ended. MTASK_OK, MTASK_FAILED; MTASK_TIMEOUT,
   MTASK_CANCELED: it is cancelled if it has not begun; those of mtask_procpool_submit_ex. */
MTASK_API mtask_status mtask_procpool_call(mtask_procpool *pool, mtask_bytes_fn fn, const void *in,
                                           size_t size, mtask_buf *out, mtask_outcome *outcome,
                                           int64_t timeout);

/* The result of a pool's task that has succeeded: `size` bytes, aligned to 16, with a zero behind,
   which live as long as the future: hold a reference. They are also the value of its outcome, which
   is not to be freed. NULL, and size 0: it has not ended, has failed, or is no such future's. */
MTASK_API const void *mtask_future_bytes(const mtask_future *future, size_t *size);

/* Some bytes. */
typedef struct mtask_bytes {
    const void *data;
    size_t size;
} mtask_bytes;

/* A map over an array. All arrays are the caller's, until it is done. */
typedef struct mtask_procmap_desc {
    mtask_bytes_fn fn; /* required */
    size_t count;      /* items */
    const void *in;    /* count x in_size bytes, */
    size_t in_size;
    const mtask_bytes *items; /* or, if this is not NULL, count of these */
    void *out;                /* receives count x out_size bytes (default: NULL) */
    size_t out_size; /* an item whose result is not so long has failed: MTASK_OVERFLOW if it is
                                 longer, MTASK_INVALID if it is shorter */
    mtask_buf *outs; /* or, if this is not NULL, receives count results, which replace what is in
                                 them; the caller's to free (default: NULL) */
    mtask_status *statuses; /* receives how each item ended (default: NULL) */
    size_t chunk; /* items that are sent to a process at a time (default: count / (4 x workers),
                     rounded up). If one crashes, all of its chunk end so */
    int64_t time_limit;   /* of a chunk (default: the pool's) */
    mtask_word *progress; /* counts the items that have ended, modulo 2^32 (default: NULL) */
} mtask_procmap_desc;

/* Does fn to all items and waits until all have ended, at most `timeout` nanoseconds. Items that fail
   do not stop the others. MTASK_OK; MTASK_FAILED: `outcome` (NULL allowed) is the failure of the
   first item that failed, by index; MTASK_TIMEOUT, MTASK_CANCELED: what has not begun is cancelled,
   and what runs has been waited for or killed: nothing writes to the arrays any more; MTASK_INVALID,
   and as mtask_procpool_submit. */
MTASK_API mtask_status mtask_procpool_map(mtask_procpool *pool, const mtask_procmap_desc *desc,
                                          mtask_outcome *outcome, int64_t timeout);

/* The same without waiting: `future` ends, with value NULL or as the first item that failed, when all
   items have ended. The description is copied. mtask_future_cancel works until one has begun. */
MTASK_API mtask_status mtask_procpool_map_async(mtask_procpool *pool,
                                                const mtask_procmap_desc *desc,
                                                mtask_future **future);

/* No more tasks: submitting answers MTASK_CLOSED from now on; what was submitted is still done.
   MTASK_OK (also if it was closed), MTASK_BROKEN, MTASK_INVALID. Does not wait. */
MTASK_API mtask_status mtask_procpool_close(mtask_procpool *pool);

/* Closes the pool, cancels what has not begun, and ends the processes, by SIGTERM and soon after by
   SIGKILL: what ran ends as MTASK_CANCELED. As mtask_procpool_close. */
MTASK_API mtask_status mtask_procpool_terminate(mtask_procpool *pool);

/* Waits until a closed pool has done all it had to do and its processes have ended. MTASK_OK;
   MTASK_INVALID: it is not closed; MTASK_TIMEOUT, MTASK_CANCELED, MTASK_DEADLOCK (called by a
   callback), MTASK_BROKEN (after fork), MTASK_SYSTEM. */
MTASK_API mtask_status mtask_procpool_join(mtask_procpool *pool, int64_t timeout);

/* Terminates the pool unless it was closed, joins and frees it, after which its futures remain.
   NULL is allowed. MTASK_OK; MTASK_DEADLOCK (called by a callback): nothing happened. After fork, the
   child's copy is freed. */
MTASK_API mtask_status mtask_procpool_destroy(mtask_procpool *pool);

/* What it has done, as of now. */
typedef struct mtask_procpool_stats {
    size_t workers;   /* processes that it is to have */
    size_t alive;     /* that it has */
    size_t pending;   /* tasks (of a map: chunks) that have not begun, and */
    size_t running;   /* that have, as far as is known */
    size_t completed; /* that have succeeded, */
    size_t failed;    /* failed, */
    size_t canceled;  /* been cancelled */
    size_t crashed;   /* processes that ended otherwise than they should, */
    size_t started;   /* and that were started so far */
} mtask_procpool_stats;

MTASK_API mtask_procpool_stats mtask_procpool_get_stats(mtask_procpool *pool);

/* ---- >>procimap: Pool.imap and imap_unordered ---- */

/* Appends the next input to `in`: MTASK_OK; MTASK_DONE: there is none; anything else, with mtask_fail
   for the text, is a failure, which ends the input. Called by mtask_procimap_next. */
typedef mtask_status (*mtask_bytes_input_fn)(mtask_buf *in, void *ctx);

/* A map over an input that is pulled as it is needed. */
typedef struct mtask_procimap_desc {
    mtask_bytes_fn fn;          /* required */
    mtask_bytes_input_fn input; /* required */
    void *ctx;                  /* handed to it (default: NULL) */
    size_t chunk;               /* items that are sent to a process at a time (default: 1) */
    size_t ahead; /* most items that are pulled and not yet returned, rounded up to whole chunks, at
                     least one (default: 2 x workers x chunk) */
    bool unordered;     /* results come as they are ready (default: in order of the input) */
    int64_t time_limit; /* of a chunk (default: the pool's) */
} mtask_procimap_desc;

/* An iterator over results. One task or thread at a time uses it. */
typedef struct mtask_procimap mtask_procimap;

/* One result. */
typedef struct mtask_procitem {
    size_t index;     /* of its input: 0, 1 ... */
    const void *data; /* what fn made of it: valid until the next call with the iterator */
    size_t size;
    mtask_status status; /* MTASK_OK, or what it failed with */
    const char *text;    /* why it failed; "" if it did not */
} mtask_procitem;

/* Begins to pull and to work. Close it. MTASK_INVALID, MTASK_NOMEM, and as mtask_procpool_submit. */
MTASK_API mtask_status mtask_procpool_imap(mtask_procpool *pool, const mtask_procimap_desc *desc,
                                           mtask_procimap **imap);

/* mtask_procpool_imap with `unordered`. */
MTASK_API mtask_status mtask_procpool_imap_unordered(mtask_procpool *pool,
                                                     const mtask_procimap_desc *desc,
                                                     mtask_procimap **imap);

/* Pulls input as far ahead as it may, and waits for the next result. MTASK_OK; MTASK_FAILED: this item
   failed (item->status, text), or, if item->data is NULL, the input did; the rest goes on. MTASK_DONE: there are no more. MTASK_TIMEOUT: try again. MTASK_CANCELED,
   MTASK_BROKEN (after fork), MTASK_CLOSED (the pool takes no more: the rest of the input is not
   pulled), MTASK_NOMEM, MTASK_INVALID (negative), MTASK_SYSTEM. */
MTASK_API mtask_status mtask_procimap_next(mtask_procimap *imap, mtask_procitem *item,
                                           int64_t timeout);

/* Ends it, wherever it is: cancels what has not begun, lets what runs go on alone, and frees it.
   Before the pool is destroyed. NULL is allowed. Does not wait. */
MTASK_API void mtask_procimap_close(mtask_procimap *imap);

# ifdef __cplusplus
} /* extern "C" */
# endif

#endif /* MTASK_PROC_H */

/* ================================ implementation ================================ */

#if (defined(MTASK_IMPLEMENTATION) || defined(MTASK_PROC_IMPLEMENTATION)) &&                       \
    !defined(MTASK_PROC_IMPLEMENTED)
# define MTASK_PROC_IMPLEMENTED
#endif /* MTASK_PROC_IMPLEMENTATION */
