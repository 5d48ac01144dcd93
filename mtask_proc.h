/* mtask_proc.h 0.6.0 - processes, commands, pipes, shared memory and process pools for C

   Python's `multiprocessing` and `subprocess` in one header: the task function of a thread runs in
   a process of its own; commands run with input, captured output and time-outs, without a
   dead-lock; messages go through pipes and sockets; memory is shared by name or by inheritance;
   and a pool of processes does what a pool of threads does, and survives when one of them is
   killed. It stands on mtask_io.h, mtask_coro.h, mtask_pool.h, mtask_queue.h and mtask.h.

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
     - Every call that waits may be made by a thread or by a task of a loop, which is parked
       meanwhile; it takes a time-out, and a cancelled task gets MTASK_CANCELED.
     - Descriptors that this header makes are close-on-exec: a command inherits 0, 1, 2, and those
       that are named; nothing else, whoever opened it.
     - Nothing is left behind: no zombies, no descriptors, no names of shared memory; also when a
       process is killed. A process that is killed while it holds a lock, runs a task or sends a
       message costs what it was doing, and others are told.
     - Handles belong to the process that made them: in a forked child those of its parent's
       processes, commands and pools answer MTASK_INVALID or MTASK_BROKEN. Connections, listeners
       and shared memory are inherited.
     - fork copies the calling thread only. Locks of mtask and of the C library are made usable in
       the child; those of other libraries may stay locked by threads that are not there. A program
       that has such uses MTASK_PROC_SPAWN or MTASK_PROC_FORKSERVER.

   COSTS
     A forked process: fork, and a few microseconds. A command: posix_spawn. A task of a pool: no
     system call while there is work; its bytes lie in memory that the processes share, up to
     MTASK_PROCPOOL_INLINE of them; more go through a socket.

   CONTENTS: grep for the tag.
     >>buf  >>proc  >>cmd  >>conn  >>conn-listener  >>shm  >>array  >>arena  >>procpool  >>procimap
     implementation: >>proc-contract  >>proc-common  >>child  >>launch  >>conn-send  >>conn-receive
     >>conn-auth  >>proc-state  >>module  >>ticket  >>proc-run  >>proc-start  >>forkserver  >>proc-all
     >>procpool-table  >>procpool-process  >>procpool-state  >>procpool-publish  >>procpool-end
     >>procpool-manager  >>procpool-start  >>procpool-limits  >>procpool-manage  >>procpool-submit
     >>procpool-map  >>procpool-close  and the same again
     platforms: >>posix-spawn  >>linux-proc  >>posix-proc

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

/* Bytes in memory of mtask's. All zero is an empty one. Behind the last byte lies a zero, once
   there is memory: so it can be read as text. Free it. One task at a time uses it. */
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
    const unsigned *cpus; /* numbers of the CPUs that it may use (default: the caller's, or the fork
                             server's) */
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
   functions; its exit code is 0, or 1 if it failed. Join or release it. MTASK_INVALID: no fn; or
   arg is not NULL and memory is not shared. MTASK_NOMEM; MTASK_SYSTEM: errno says why (EAGAIN: too
   many processes). Does not wait for the process to run; MTASK_PROC_SPAWN and _FORKSERVER wait
   until it has been made. */
MTASK_API mtask_status mtask_proc_start(mtask_proc **proc, mtask_fn fn, void *arg);

/* The same as the description says. Also MTASK_NOT_FOUND: `call` (or `fn`) is in no program or
   library that can be found again; MTASK_UNSUPPORTED: no affinity on this system; mtask_proc_init
   has not been called, and the method needs it; MTASK_BROKEN: the fork server ended in the midst of
   it. */
MTASK_API mtask_status mtask_proc_start_ex(mtask_proc **proc, const mtask_proc_desc *desc);

/* Waits until it has ended, at most `timeout` nanoseconds, and fills `outcome` (NULL allowed).
   Several may join, and again. MTASK_OK: the task returned. MTASK_FAILED: outcome->status and text
   say why: what mtask_fail was given; MTASK_FAILED: it ended by exit with another code than 0 (if
   by exit(0), MTASK_OK with value NULL); MTASK_CRASHED: by a signal. MTASK_TIMEOUT, MTASK_CANCELED
   (the calling task), MTASK_INVALID (negative; not a child of this process), MTASK_SYSTEM. */
MTASK_API mtask_status mtask_proc_join(mtask_proc *proc, mtask_outcome *outcome, int64_t timeout);

/* Appends what a `call` has appended to its `out` to `result`. MTASK_OK; MTASK_TIMEOUT: it has not
   ended; MTASK_FAILED: it ended without a result; MTASK_NOMEM, MTASK_INVALID, MTASK_SYSTEM. Does
   not wait. */
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
   MTASK_UNSUPPORTED (one that runs, where there are no pidfds; not of a fork server's). Does not
   wait. */
MTASK_API mtask_status mtask_proc_sentinel(mtask_proc *proc, int *fd);

/* Frees the handle of a process that has ended. MTASK_OK (also NULL); MTASK_INVALID: it runs,
   nothing happened. Nobody may use the handle any more. Does not wait. */
MTASK_API mtask_status mtask_proc_close(mtask_proc *proc);

/* Lets go of the handle, whether it runs or not; one that runs is taken note of when it has ended,
   by a later start, enumerate or join_all. NULL is allowed. Does not wait. */
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
   the daemons, by SIGTERM and a second later by SIGKILL: what Python does at exit. Call it at the
   end of main. Handles stay to be closed. MTASK_OK, MTASK_TIMEOUT (no daemon was ended),
   MTASK_CANCELED, MTASK_INVALID (negative), MTASK_SYSTEM. */
MTASK_API mtask_status mtask_proc_join_all(int64_t timeout);

/* Starts the process that MTASK_PROC_FORKSERVER forks from; otherwise the first use does. Early is
   better: it inherits 0, 1 and 2, the environment and the working directory of now. `preload`
   (NULL allowed), a function of this program, runs in it first. If it has been killed, the next
   use starts it anew, with the same `preload`. MTASK_OK, also if it runs; and as
   mtask_proc_start_ex. */
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

/* Runs the program argv[0], looked for in PATH if there is no slash in it, with the arguments
   argv, which ends in NULL, and waits for its end; feeds its input and captures its output
   meanwhile. `result` (NULL allowed) need not be zeroed before, is filled in any case, and is
   freed by mtask_cmd_result_free. MTASK_OK: it ended, result->code says how. MTASK_FAILED:
   `check`, and its code was not 0. MTASK_NOT_FOUND: no such program or directory. MTASK_TIMEOUT:
   killed; MTASK_OVERFLOW: killed, because it wrote more than `limit`; MTASK_CANCELED: killed, the
   calling task is cancelled: what was captured is there. MTASK_INVALID (no program; a negative
   time-out; a mode that cannot be), MTASK_NOMEM, MTASK_SYSTEM (EACCES: not a program ...). Unless
   it is killed, it ends only when all who hold the captured ends have closed them. It begins with
   no signal blocked, and with SIGPIPE and SIGXFSZ as usual. Input that the command does not read
   is dropped. */
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
   `limit` bytes (0: no limit); it goes on; MTASK_NOMEM, MTASK_INVALID, MTASK_SYSTEM. After MTASK_OK
   and MTASK_OVERFLOW what was captured is in `result` (NULL: is dropped), which need not be zeroed
   before; else it stays with the command, and the result is empty. */
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

/* The descriptor: to hand to another process, or to wait for; but what has been received in part,
   or did not fit, only mtask_conn_poll and mtask_conn_wait know of. -1: NULL. */
MTASK_API int mtask_conn_fd(const mtask_conn *conn);

/* Makes a connection of the descriptor of one, as got from another process; then it is its own.
   MTASK_OK, MTASK_NOMEM, MTASK_INVALID (not a socket), MTASK_SYSTEM: then it is still the
   caller's. */
MTASK_API mtask_status mtask_conn_open(mtask_conn **conn, int fd);

/* Sends one message, also an empty one, waiting for room. MTASK_OK. MTASK_BROKEN: nobody is at the
   other end, or a message was cut short before. MTASK_TIMEOUT, MTASK_CANCELED: nothing was sent;
   or, of a message of more than 16 KiB (through another socket than a pipe's: of any), a part of
   it: then later sends answer MTASK_BROKEN. MTASK_INVALID (negative; the end only receives),
   MTASK_NOMEM, MTASK_DEADLOCK, MTASK_SYSTEM. */
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
   are closed, as are those of a message that another function receives. Also MTASK_SYSTEM, errno
   EMFILE: they could not be had and are lost; the message can still be received. */
MTASK_API mtask_status mtask_conn_recv_fds(mtask_conn *conn, mtask_buf *message, int *fds,
                                           size_t capacity, size_t *count, int64_t timeout);

/* Waits until there is a message, or its beginning, or the end. MTASK_OK, MTASK_TIMEOUT,
   MTASK_CANCELED, MTASK_INVALID, MTASK_DEADLOCK, MTASK_SYSTEM. */
MTASK_API mtask_status mtask_conn_poll(mtask_conn *conn, int64_t timeout);

/* Longest message, in bytes, that it receives (0: no limit, the default; memory is taken only as
   the bytes arrive). */
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

/* Waits until at least one of `count`, at most 1024, is ready, as mtask_conn_poll; then `ready`
   says which. MTASK_OK, MTASK_TIMEOUT, MTASK_CANCELED, MTASK_INVALID (none, or too many; negative),
   MTASK_NOMEM, MTASK_DEADLOCK, MTASK_SYSTEM. */
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

/* Accepts a connection, for which it waits at most `timeout` nanoseconds, and has it prove that it
   knows the key, which takes at most `patience`. In a forked child, too. MTASK_OK. MTASK_AUTH: it
   gave a wrong one, or none in time, or what is not this protocol; it is closed; accept goes on to
   work. Those of mtask_tcp_accept. After an error *conn is NULL. */
MTASK_API mtask_status mtask_conn_listener_accept(mtask_conn_listener *listener, mtask_conn **conn,
                                                  int64_t timeout);

/* Where it listens. */
MTASK_API mtask_status mtask_conn_listener_address(const mtask_conn_listener *listener,
                                                   mtask_address *address);

/* Its descriptor: readable when there is somebody to accept. */
MTASK_API int mtask_conn_listener_fd(const mtask_conn_listener *listener);

/* Stops listening and frees it; nobody may use it any more. NULL is allowed. */
MTASK_API void mtask_conn_listener_close(mtask_conn_listener *listener);

/* Connects to "host:port" or "unix:/path", and proves that it knows the key. MTASK_OK; MTASK_AUTH:
   the listener did not accept it, or did not prove its own; those of mtask_tcp_connect;
   MTASK_INVALID (a key without hmac). After an error *conn is NULL. */
MTASK_API mtask_status mtask_conn_connect(mtask_conn **conn, const char *address,
                                          const mtask_conn_desc *desc, int64_t timeout);

/* ---- >>shm: multiprocessing.shared_memory ---- */

# define MTASK_SHM_NAME 64 /* bytes of a name, the closing zero included */

/* A handle on a block of shared memory, in the caller's memory; what stands in it may be read. Do
   not copy it. A forked child has the block at the same address, and closes its own copy of the
   handle or not. */
typedef struct mtask_shm {
    void *data;                /* where it lies here, aligned to a page; NULL: closed */
    size_t size;               /* its bytes, as asked for by who made it */
    int fd;                    /* hand it to a process to have it attach */
    pid_t creator;             /* the process that made it; 0: attached */
    char name[MTASK_SHM_NAME]; /* "": anonymous */
} mtask_shm;

/* Makes a block of `size` bytes, all zero. `name` (NULL: none): letters, digits and ".-_", at most
   MTASK_SHM_NAME - 1, the first not a dot; processes of the same user find it by that, while the
   creator lives and has not closed it: the name goes with it, however it ends. Memory is taken as
   it is used; it is given back when the last who has it has closed it or ended. Close it. MTASK_OK;
   MTASK_INVALID (size 0, a name that cannot be); MTASK_NOMEM; MTASK_SYSTEM (EEXIST: another has
   that name). */
MTASK_API mtask_status mtask_shm_create(mtask_shm *shm, const char *name, size_t size);

/* Attaches a block by its name, or by a descriptor from another process's `fd`, which stays the
   caller's. Close it. MTASK_OK; MTASK_NOT_FOUND: no such name (any more); MTASK_INVALID;
   MTASK_NOMEM; MTASK_SYSTEM (EACCES: another user's). */
MTASK_API mtask_status mtask_shm_attach(mtask_shm *shm, const char *name);
MTASK_API mtask_status mtask_shm_attach_fd(mtask_shm *shm, int fd);

/* Takes the name away; who has the block keeps it. By the creator only: MTASK_NOT_OWNER. MTASK_OK,
   MTASK_NOT_FOUND (it has none, any more), MTASK_SYSTEM (it stays). */
MTASK_API mtask_status mtask_shm_unlink(mtask_shm *shm);

/* Lets go of the block here: the memory is gone from this process's addresses; by the creator also
   the name. MTASK_OK, MTASK_INVALID (not open), MTASK_SYSTEM. */
MTASK_API mtask_status mtask_shm_close(mtask_shm *shm);

/* ---- >>array: multiprocessing.Value and Array ---- */

struct mtask__array;

/* A handle on items in shared memory, with a lock; of one item it is Python's Value. As mtask_shm.
   */
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

/* Locks it, waiting at most `timeout` nanoseconds. MTASK_OK. MTASK_OWNER_DEAD: locked, but who had
   it died before it unlocked: items may be half changed. MTASK_TIMEOUT, MTASK_CANCELED,
   MTASK_DEADLOCK (the caller has it), MTASK_INVALID, MTASK_BROKEN, MTASK_SYSTEM. */
MTASK_API mtask_status mtask_array_lock(mtask_array *array, int64_t timeout);

/* MTASK_OK, MTASK_NOT_OWNER. */
MTASK_API mtask_status mtask_array_unlock(mtask_array *array);

/* Copies an item from or to `item`, locked meanwhile. MTASK_OK; MTASK_NOT_FOUND: no such index;
   those of mtask_array_lock, but never MTASK_OWNER_DEAD: then it goes on. */
MTASK_API mtask_status mtask_array_get(mtask_array *array, size_t index, void *item);
MTASK_API mtask_status mtask_array_set(mtask_array *array, size_t index, const void *item);

/* As mtask_shm_close; nobody may hold the lock through this handle. */
MTASK_API mtask_status mtask_array_close(mtask_array *array);

/* ---- >>arena: shared memory in pieces ---- */

struct mtask__arena;

/* A handle on shared memory from which pieces are taken: for mutexes, semaphores, events,
   conditions, barriers and queues made with MTASK_SHARED, and for data. As mtask_shm. In processes
   that attach it (other than forked ones) it lies elsewhere: there a piece is found by its offset,
   or as the root. */
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
   MTASK_INVALID (size 0), MTASK_BROKEN, MTASK_SYSTEM. Any process; what a killed process had taken
   stays taken. */
MTASK_API mtask_status mtask_arena_alloc(mtask_arena *arena, size_t size, void **piece);

/* Gives a piece back. MTASK_OK (also NULL); MTASK_INVALID: not a piece, or given back already. */
MTASK_API mtask_status mtask_arena_free(mtask_arena *arena, void *piece);

/* A piece by a number that is the same in all processes, and back. 0 and NULL are each other's. */
MTASK_API size_t mtask_arena_offset(const mtask_arena *arena, const void *piece);
MTASK_API void *mtask_arena_at(const mtask_arena *arena, size_t offset);

/* Sets, or tells, the piece from which all else is found; NULL at first. */
MTASK_API void mtask_arena_set_root(mtask_arena *arena, void *piece);
MTASK_API void *mtask_arena_root(const mtask_arena *arena);

/* Bytes that can still be taken, in pieces of the sizes that there are. */
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

/* Has a process run fn on a copy of the `size` bytes at `in`. `future` (NULL: not wanted) receives
   a reference on its result; see mtask_future_bytes. It ends with the status and text of fn;
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

/* Does fn to all items and waits until all have ended, at most `timeout` nanoseconds. Items that
   fail do not stop the others. MTASK_OK; MTASK_FAILED: `outcome` (NULL allowed) is the failure of
   the first item that failed, by index; MTASK_TIMEOUT, MTASK_CANCELED: what has not begun is
   cancelled, what runs is killed, and nobody reads or writes the arrays any more; MTASK_INVALID,
   and as mtask_procpool_submit. */
MTASK_API mtask_status mtask_procpool_map(mtask_procpool *pool, const mtask_procmap_desc *desc,
                                          mtask_outcome *outcome, int64_t timeout);

/* The same without waiting: `future` ends, with value NULL or as the first item that failed, when
   all items have ended. The description is copied. mtask_future_cancel works until one has begun.
   */
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
   NULL is allowed. MTASK_OK; MTASK_DEADLOCK (called by a callback): nothing happened. After fork,
   the child's copy is freed. */
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

/* Tells it. Does not wait. */
MTASK_API mtask_procpool_stats mtask_procpool_get_stats(mtask_procpool *pool);

/* ---- >>procimap: Pool.imap and imap_unordered ---- */

/* Appends the next input to `in`: MTASK_OK; MTASK_DONE: there is none; anything else, with
   mtask_fail for the text, is a failure, which ends the input. Called by mtask_procimap_next. */
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

/* Begins to pull and to work. Close it. MTASK_INVALID, MTASK_NOMEM, and as mtask_procpool_submit.
   */
MTASK_API mtask_status mtask_procpool_imap(mtask_procpool *pool, const mtask_procimap_desc *desc,
                                           mtask_procimap **imap);

/* mtask_procpool_imap with `unordered`. */
MTASK_API mtask_status mtask_procpool_imap_unordered(mtask_procpool *pool,
                                                     const mtask_procimap_desc *desc,
                                                     mtask_procimap **imap);

/* Pulls input as far ahead as it may, and waits for the next result. MTASK_OK; MTASK_FAILED: this
   item failed (item->status, text), or, if item->data is NULL, the input did; the rest goes on.
   MTASK_DONE: there are no more. MTASK_TIMEOUT: try again. MTASK_CANCELED, MTASK_BROKEN (after
   fork), MTASK_CLOSED (the pool takes no more: the rest of the input is not pulled), MTASK_NOMEM,
   MTASK_INVALID (negative), MTASK_SYSTEM. */
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

# include <errno.h>
# include <fcntl.h>
# include <limits.h>
# include <link.h>
# include <poll.h>
# include <signal.h>
# include <spawn.h>
# include <stdarg.h>
# include <stdio.h>
# include <stdlib.h>
# include <string.h>
# include <sys/file.h>
# include <sys/mman.h>
# include <sys/stat.h>
# include <sys/wait.h>
# include <unistd.h>

# ifdef __cplusplus
extern "C" {
# endif

extern char **environ;

/* ---- >>proc-contract: what a platform supplies, beside POSIX ---- */

/* A pipe of two descriptors, close-on-exec, that block. */
static bool mtask__os_proc_pipe(int ends[2]);
/* Two sockets connected to each other, close-on-exec; `packets`: that keep messages apart, if the
   system has such. */
static bool mtask__os_proc_pair(int ends[2], bool packets);
/* A descriptor that becomes readable when the child ends; -1: there is none. */
static int mtask__os_proc_fd(pid_t pid);
/* Sends a signal through such a descriptor: 0, or -1: errno. */
static int mtask__os_proc_signal(int fd, int number);
/* Has this process killed when the last writing end of that pipe is closed: false: errno. */
static bool mtask__os_die_with(int lifeline);
/* Limits this process to these CPUs; with none it only tells whether it can: MTASK_UNSUPPORTED.
   MTASK_OK, MTASK_NOMEM, MTASK_SYSTEM. */
static mtask_status mtask__os_proc_affinity(const unsigned *cpus, size_t count);
/* A shared file of no size, close-on-exec, that goes with the last who has it; -1: errno. */
static int mtask__os_shm_open(const char *name);
/* Gives it a name that goes with this process, or takes the name away, or finds what has it.
   MTASK_OK, MTASK_NOT_FOUND, MTASK_SYSTEM. */
static mtask_status mtask__os_shm_link(mtask_shm *shm);
static mtask_status mtask__os_shm_unlink(const mtask_shm *shm);
static mtask_status mtask__os_shm_find(const char *name, int *fd);
/* Something that one process rings and another waits for: a descriptor that is polled, or read
   by mtask__os_bell_wait, which blocks. bell[1] is for ringing. */
static bool mtask__os_bell_open(int bell[2]);
static void mtask__os_bell_ring(int fd);
static void mtask__os_bell_wait(int fd);
static void mtask__os_bell_clear(int fd);
static void mtask__os_bell_close(int bell[2]);
/* Adds to the actions of a spawn that all descriptors from `from` on are closed. */
static int mtask__os_close_from(posix_spawn_file_actions_t *actions, int from);

/* ---- >>proc-common ---- */

/* A status for what errno says. */
static mtask_status mtask__proc_refused(void) {
    return errno == ENOMEM ? MTASK_NOMEM : MTASK_SYSTEM;
}

/* Closes a descriptor that is no loop's, if there is one; keeps errno. */
static void mtask__proc_shut(int *fd) {
    int saved = errno;
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
    errno = saved;
}

/* The same of one that mtask has adopted. */
static void mtask__proc_drop(int *fd) {
    int saved = errno;
    if (*fd >= 0)
        (void)mtask_io_close(*fd);
    *fd = -1;
    errno = saved;
}

/* Whether the caller is a task of a loop, whose thread must not block. */
static bool mtask__proc_in_task(void) {
    return mtask__task_current()->parker != NULL;
}

/* Has a message carry descriptors; `control` has CMSG_SPACE for them, all zero. */
static void mtask__message_carry(struct msghdr *message, void *control, const int *fds,
                                 size_t count) {
    struct cmsghdr *header;
    message->msg_control = control;
    message->msg_controllen = CMSG_SPACE(count * sizeof *fds);
    header = CMSG_FIRSTHDR(message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(count * sizeof *fds);
    memcpy(CMSG_DATA(header), fds, count * sizeof *fds);
}

/* Reads or writes all of it, at a place of a file; whether it did. */
static bool mtask__proc_pread(int fd, void *data, size_t size, off_t at) {
    char *to = (char *)data;
    while (size > 0) {
        ssize_t got = pread(fd, to, size, at);
        if (got <= 0 && !(got < 0 && errno == EINTR))
            return false;
        if (got > 0) {
            to += got;
            at += got;
            size -= (size_t)got;
        }
    }
    return true;
}

static bool mtask__proc_pwrite(int fd, const void *data, size_t size, off_t at) {
    const char *from = (const char *)data;
    while (size > 0) {
        ssize_t put = pwrite(fd, from, size, at);
        if (put < 0 && errno != EINTR)
            return false;
        if (put > 0) {
            from += put;
            at += put;
            size -= (size_t)put;
        }
    }
    return true;
}

/* ---- >>buf ---- */

MTASK_API mtask_status mtask_buf_reserve(mtask_buf *buf, size_t more) {
    size_t need;
    size_t capacity;
    char *data;
    if (buf == NULL)
        return MTASK_INVALID;
    if (buf->data != NULL && more <= buf->capacity - buf->size)
        return MTASK_OK;
    if (more > SIZE_MAX / 4 - buf->size)
        return MTASK_NOMEM;
    need = buf->size + more;
    capacity = buf->capacity < 64 ? 64 : buf->capacity * 2;
    capacity = capacity < need ? need : capacity;
    data = (char *)MTASK_REALLOC(buf->data, capacity + 1);
    if (data == NULL)
        return MTASK_NOMEM;
    data[buf->size] = 0;
    buf->data = data;
    buf->capacity = capacity;
    return MTASK_OK;
}

/* What was written behind the end counts from now on. */
static void mtask__buf_grow(mtask_buf *buf, size_t size) {
    buf->size += size;
    buf->data[buf->size] = 0;
}

MTASK_API mtask_status mtask_buf_append(mtask_buf *buf, const void *data, size_t size) {
    mtask_status status = mtask_buf_reserve(buf, size);
    if (status != MTASK_OK || size == 0)
        return status;
    if (data == NULL)
        return MTASK_INVALID;
    memcpy(buf->data + buf->size, data, size);
    mtask__buf_grow(buf, size);
    return MTASK_OK;
}

MTASK_API mtask_status mtask_buf_printf(mtask_buf *buf, const char *format, ...) {
    va_list args;
    mtask_status status;
    int length;
    if (buf == NULL || format == NULL)
        return MTASK_INVALID;
    va_start(args, format);
    length = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (length < 0)
        return MTASK_INVALID;
    status = mtask_buf_reserve(buf, (size_t)length);
    if (status != MTASK_OK)
        return status;
    va_start(args, format);
    (void)vsnprintf(buf->data + buf->size, (size_t)length + 1, format, args);
    va_end(args);
    buf->size += (size_t)length;
    return MTASK_OK;
}

MTASK_API void mtask_buf_free(mtask_buf *buf) {
    if (buf == NULL)
        return;
    MTASK_FREE(buf->data);
    memset(buf, 0, sizeof *buf);
}

/* Empties it, but keeps its memory. */
static void mtask__buf_clear(mtask_buf *buf) {
    buf->size = 0;
    if (buf->data != NULL)
        buf->data[0] = 0;
}

/* ---- >>shm ---- */

/* What names are made of. */
static const char mtask__shm_letters[] =
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_";

static bool mtask__shm_name_fits(const char *name) {
    size_t length = strlen(name);
    if (length == 0 || length >= MTASK_SHM_NAME || name[0] == '.')
        return false;
    for (size_t i = 0; i < length; i++)
        if (strchr(mtask__shm_letters, name[i]) == NULL)
            return false;
    return true;
}

static void mtask__shm_clear(mtask_shm *shm) {
    memset(shm, 0, sizeof *shm);
    shm->fd = -1;
}

/* Maps shm->fd, `size` bytes of it. */
static mtask_status mtask__shm_map(mtask_shm *shm, size_t size) {
    void *data = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, shm->fd, 0);
    if (data == MAP_FAILED)
        return mtask__proc_refused();
    shm->data = data;
    shm->size = size;
    return MTASK_OK;
}

/* Ends a handle that could not be finished; what it made goes. */
static mtask_status mtask__shm_give_up(mtask_shm *shm, mtask_status status) {
    int saved = errno;
    if (shm->name[0] != 0 && shm->creator != 0)
        (void)mtask__os_shm_unlink(shm);
    if (shm->data != NULL)
        (void)munmap(shm->data, shm->size);
    if (shm->fd >= 0)
        close(shm->fd);
    mtask__shm_clear(shm);
    errno = saved;
    return status;
}

static mtask_status mtask__shm_resize(int fd, size_t size) {
    int result;
    do
        result = ftruncate(fd, (off_t)size);
    while (result != 0 && errno == EINTR);
    return result == 0 ? MTASK_OK : mtask__proc_refused();
}

/* Makes a block that nobody can find yet. */
static mtask_status mtask__shm_make(mtask_shm *shm, const char *name, size_t size) {
    mtask_status status;
    if (shm == NULL)
        return MTASK_INVALID;
    mtask__shm_clear(shm);
    if (size == 0 || (off_t)size < 0 || (name != NULL && !mtask__shm_name_fits(name)))
        return MTASK_INVALID;
    if (name != NULL)
        memcpy(shm->name, name, strlen(name) + 1);
    shm->fd = mtask__os_shm_open(shm->name);
    if (shm->fd < 0)
        return mtask__proc_refused();
    shm->creator = getpid();
    status = mtask__shm_resize(shm->fd, size);
    if (status == MTASK_OK)
        status = mtask__shm_map(shm, size);
    return status == MTASK_OK ? MTASK_OK : mtask__shm_give_up(shm, status);
}

/* Others may find it now. */
static mtask_status mtask__shm_publish(mtask_shm *shm) {
    mtask_status status = shm->name[0] == 0 ? MTASK_OK : mtask__os_shm_link(shm);
    return status == MTASK_OK ? MTASK_OK : mtask__shm_give_up(shm, status);
}

MTASK_API mtask_status mtask_shm_create(mtask_shm *shm, const char *name, size_t size) {
    mtask_status status = mtask__shm_make(shm, name, size);
    return status == MTASK_OK ? mtask__shm_publish(shm) : status;
}

/* Maps all of the file shm->fd. */
static mtask_status mtask__shm_map_all(mtask_shm *shm) {
    struct stat info;
    mtask_status status;
    if (fstat(shm->fd, &info) != 0)
        return mtask__shm_give_up(shm, MTASK_SYSTEM);
    if (!S_ISREG(info.st_mode) || info.st_size <= 0)
        return mtask__shm_give_up(shm, shm->name[0] != 0 ? MTASK_NOT_FOUND : MTASK_INVALID);
    status = mtask__shm_map(shm, (size_t)info.st_size);
    return status == MTASK_OK ? MTASK_OK : mtask__shm_give_up(shm, status);
}

MTASK_API mtask_status mtask_shm_attach(mtask_shm *shm, const char *name) {
    mtask_status status;
    if (shm == NULL)
        return MTASK_INVALID;
    mtask__shm_clear(shm);
    if (name == NULL || !mtask__shm_name_fits(name))
        return MTASK_INVALID;
    status = mtask__os_shm_find(name, &shm->fd);
    if (status != MTASK_OK)
        return status;
    memcpy(shm->name, name, strlen(name) + 1);
    return mtask__shm_map_all(shm);
}

MTASK_API mtask_status mtask_shm_attach_fd(mtask_shm *shm, int fd) {
    if (shm == NULL)
        return MTASK_INVALID;
    mtask__shm_clear(shm);
    shm->fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    return shm->fd < 0 ? MTASK_SYSTEM : mtask__shm_map_all(shm);
}

MTASK_API mtask_status mtask_shm_unlink(mtask_shm *shm) {
    mtask_status status;
    if (shm == NULL || shm->data == NULL)
        return MTASK_INVALID;
    if (shm->creator != getpid())
        return MTASK_NOT_OWNER;
    if (shm->name[0] == 0)
        return MTASK_NOT_FOUND;
    status = mtask__os_shm_unlink(shm);
    if (status != MTASK_SYSTEM)
        shm->name[0] = 0;
    return status;
}

MTASK_API mtask_status mtask_shm_close(mtask_shm *shm) {
    mtask_status status = MTASK_OK;
    if (shm == NULL || shm->data == NULL)
        return MTASK_INVALID;
    if (shm->name[0] != 0 && shm->creator == getpid())
        status = mtask_shm_unlink(shm);
    if (munmap(shm->data, shm->size) != 0)
        status = MTASK_SYSTEM;
    shm->data = NULL;
    shm->name[0] = 0;
    (void)mtask__shm_give_up(shm, MTASK_OK);
    return status == MTASK_NOT_FOUND ? MTASK_OK : status;
}

/* ---- >>array ---- */

# define MTASK__ARRAY_MAGIC 0x6d746172u
# define MTASK__ARRAY_HEAD  192 /* bytes before the items */

struct mtask__array {
    mtask_word magic; /* stored last, once the rest stands */
    uint64_t count;
    uint64_t item_size;
    mtask_shared_mutex lock;
};

MTASK_API mtask_status mtask_array_create(mtask_array *array, const char *name, size_t count,
                                          size_t item_size) {
    struct mtask__array *core;
    mtask_status status;
    if (array == NULL)
        return MTASK_INVALID;
    mtask__shm_clear(&array->memory);
    array->core = NULL;
    if (count == 0 || item_size == 0)
        return MTASK_INVALID;
    if (count > (SIZE_MAX / 2 - MTASK__ARRAY_HEAD) / item_size)
        return MTASK_OVERFLOW;
    status = mtask__shm_make(&array->memory, name, MTASK__ARRAY_HEAD + count * item_size);
    if (status != MTASK_OK)
        return status;
    core = (struct mtask__array *)array->memory.data;
    core->count = count;
    core->item_size = item_size;
    status = mtask_shared_mutex_init(&core->lock);
    if (status != MTASK_OK)
        return mtask__shm_give_up(&array->memory, status);
    mtask_word_store(&core->magic, MTASK__ARRAY_MAGIC);
    status = mtask__shm_publish(&array->memory);
    array->core = status == MTASK_OK ? core : NULL;
    return status;
}

/* Looks whether what was attached is a whole array. */
static mtask_status mtask__array_found(mtask_array *array, mtask_status status) {
    struct mtask__array *core = (struct mtask__array *)array->memory.data;
    array->core = NULL;
    if (status != MTASK_OK)
        return status;
    if (array->memory.size > MTASK__ARRAY_HEAD &&
        mtask_word_load(&core->magic) == MTASK__ARRAY_MAGIC && core->item_size > 0 &&
        core->count == (array->memory.size - MTASK__ARRAY_HEAD) / core->item_size) {
        array->core = core;
        return MTASK_OK;
    }
    return mtask__shm_give_up(&array->memory, MTASK_INVALID);
}

MTASK_API mtask_status mtask_array_attach(mtask_array *array, const char *name) {
    if (array == NULL)
        return MTASK_INVALID;
    return mtask__array_found(array, mtask_shm_attach(&array->memory, name));
}

MTASK_API mtask_status mtask_array_attach_fd(mtask_array *array, int fd) {
    if (array == NULL)
        return MTASK_INVALID;
    return mtask__array_found(array, mtask_shm_attach_fd(&array->memory, fd));
}

MTASK_API void *mtask_array_data(const mtask_array *array) {
    return array->core == NULL ? NULL : (char *)array->core + MTASK__ARRAY_HEAD;
}

MTASK_API size_t mtask_array_count(const mtask_array *array) {
    return array->core == NULL ? 0 : (size_t)array->core->count;
}

MTASK_API size_t mtask_array_item_size(const mtask_array *array) {
    return array->core == NULL ? 0 : (size_t)array->core->item_size;
}

MTASK_API mtask_status mtask_array_lock(mtask_array *array, int64_t timeout) {
    mtask_status status;
    if (array == NULL || array->core == NULL)
        return MTASK_INVALID;
    status = mtask_shared_mutex_lock_for(&array->core->lock, timeout);
    if (status == MTASK_OWNER_DEAD)
        (void)mtask_shared_mutex_consistent(&array->core->lock);
    return status;
}

MTASK_API mtask_status mtask_array_unlock(mtask_array *array) {
    if (array == NULL || array->core == NULL)
        return MTASK_INVALID;
    return mtask_shared_mutex_unlock(&array->core->lock);
}

/* Where an item lies, locked; or why not. */
static mtask_status mtask__array_item(mtask_array *array, size_t index, char **item) {
    mtask_status status;
    if (array == NULL || array->core == NULL)
        return MTASK_INVALID;
    if (index >= array->core->count)
        return MTASK_NOT_FOUND;
    *item = (char *)mtask_array_data(array) + index * (size_t)array->core->item_size;
    status = mtask_array_lock(array, MTASK_FOREVER);
    return status == MTASK_OWNER_DEAD ? MTASK_OK : status;
}

MTASK_API mtask_status mtask_array_get(mtask_array *array, size_t index, void *item) {
    char *from = NULL;
    mtask_status status = item == NULL ? MTASK_INVALID : mtask__array_item(array, index, &from);
    if (status != MTASK_OK)
        return status;
    memcpy(item, from, (size_t)array->core->item_size);
    return mtask_array_unlock(array);
}

MTASK_API mtask_status mtask_array_set(mtask_array *array, size_t index, const void *item) {
    char *to = NULL;
    mtask_status status = item == NULL ? MTASK_INVALID : mtask__array_item(array, index, &to);
    if (status != MTASK_OK)
        return status;
    memcpy(to, item, (size_t)array->core->item_size);
    return mtask_array_unlock(array);
}

MTASK_API mtask_status mtask_array_close(mtask_array *array) {
    if (array == NULL || array->core == NULL)
        return MTASK_INVALID;
    array->core = NULL;
    return mtask_shm_close(&array->memory);
}

/* ---- >>arena ---- */

/* Buddies (Knowlton, 1965): pieces are powers of 2 of granules, and a piece that is split becomes
   two that can be put together again. A byte for each granule tells of the piece that begins there,
   0: none. These bytes are the truth: each step changes one of them, so that going from piece to
   piece always leads through the whole arena. The lists of what is free are made anew from them
   when a process was killed with the lock. */
# define MTASK__ARENA_MAGIC   0x6d74616eu
# define MTASK__ARENA_GRANULE 64
# define MTASK__ARENA_CLASSES 40
# define MTASK__ARENA_USED    0x80u /* of a granule's byte; the rest: the piece's class plus 1 */

struct mtask__arena {
    mtask_word magic; /* stored last */
    mtask_shared_mutex lock;
    size_t root;                          /* offset of a piece, or 0 */
    uint64_t first;                       /* offset of the first granule, */
    uint64_t end;                         /* and behind the last */
    uint64_t spare;                       /* bytes in the lists */
    uint64_t lists[MTASK__ARENA_CLASSES]; /* offsets of the first free piece, or 0 */
};

/* What lies in a free piece. */
typedef struct mtask__arena_link {
    uint64_t next; /* offsets; 0: none */
    uint64_t prev;
} mtask__arena_link;

static unsigned char *mtask__arena_byte(const mtask_arena *arena, uint64_t offset) {
    unsigned char *bytes = (unsigned char *)(arena->core + 1);
    return &bytes[(offset - arena->core->first) / MTASK__ARENA_GRANULE];
}

static mtask__arena_link *mtask__arena_link_at(const mtask_arena *arena, uint64_t offset) {
    return (mtask__arena_link *)(void *)((char *)arena->core + offset);
}

static size_t mtask__arena_round(size_t size) {
    return (size + MTASK__ARENA_GRANULE - 1) / MTASK__ARENA_GRANULE * MTASK__ARENA_GRANULE;
}

static uint64_t mtask__arena_piece_size(unsigned size_class) {
    return (uint64_t)MTASK__ARENA_GRANULE << size_class;
}

/* Says what begins there; whoever is killed behind this leaves it so. */
static void mtask__arena_mark(const mtask_arena *arena, uint64_t offset, unsigned byte) {
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    *(volatile unsigned char *)mtask__arena_byte(arena, offset) = (unsigned char)byte;
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
}

static void mtask__arena_push(mtask_arena *arena, uint64_t piece, unsigned size_class) {
    uint64_t *list = &arena->core->lists[size_class];
    mtask__arena_link *link = mtask__arena_link_at(arena, piece);
    link->next = *list;
    link->prev = 0;
    if (*list != 0)
        mtask__arena_link_at(arena, *list)->prev = piece;
    *list = piece;
    arena->core->spare += mtask__arena_piece_size(size_class);
}

static void mtask__arena_pull(mtask_arena *arena, uint64_t piece, unsigned size_class) {
    const mtask__arena_link *link = mtask__arena_link_at(arena, piece);
    if (link->prev != 0)
        mtask__arena_link_at(arena, link->prev)->next = link->next;
    else
        arena->core->lists[size_class] = link->next;
    if (link->next != 0)
        mtask__arena_link_at(arena, link->next)->prev = link->prev;
    arena->core->spare -= mtask__arena_piece_size(size_class);
}

/* Makes pieces of all that there is, the largest that begin where such a piece may. */
static void mtask__arena_divide(mtask_arena *arena) {
    uint64_t at = 0;
    uint64_t size = arena->core->end - arena->core->first;
    while (at < size) {
        unsigned size_class = 0;
        while (at % mtask__arena_piece_size(size_class + 1) == 0 &&
               mtask__arena_piece_size(size_class + 1) <= size - at &&
               size_class + 1 < MTASK__ARENA_CLASSES)
            size_class++;
        mtask__arena_mark(arena, arena->core->first + at, size_class + 1);
        mtask__arena_push(arena, arena->core->first + at, size_class);
        at += mtask__arena_piece_size(size_class);
    }
}

/* Makes the lists anew. */
static void mtask__arena_mend(mtask_arena *arena) {
    struct mtask__arena *core = arena->core;
    uint64_t piece = core->first;
    memset(core->lists, 0, sizeof core->lists);
    core->spare = 0;
    while (piece < core->end) {
        unsigned byte = *mtask__arena_byte(arena, piece);
        unsigned size_class = (byte & ~MTASK__ARENA_USED) - 1;
        if (byte == 0 || size_class >= MTASK__ARENA_CLASSES)
            break; /* somebody has written where it should not */
        if ((byte & MTASK__ARENA_USED) == 0)
            mtask__arena_push(arena, piece, size_class);
        piece += mtask__arena_piece_size(size_class);
    }
}

MTASK_API mtask_status mtask_arena_create(mtask_arena *arena, const char *name, size_t size) {
    struct mtask__arena *core;
    size_t head;
    mtask_status status;
    if (arena == NULL)
        return MTASK_INVALID;
    mtask__shm_clear(&arena->memory);
    arena->core = NULL;
    if (size == 0)
        return MTASK_INVALID;
    if (size > SIZE_MAX / 4)
        return MTASK_OVERFLOW;
    size = mtask__arena_round(size);
    head = mtask__arena_round(sizeof(struct mtask__arena) + size / MTASK__ARENA_GRANULE);
    status = mtask__shm_make(&arena->memory, name, head + size);
    if (status != MTASK_OK)
        return status;
    core = (struct mtask__arena *)arena->memory.data;
    core->first = head;
    core->end = head + size;
    status = mtask_shared_mutex_init(&core->lock);
    if (status != MTASK_OK)
        return mtask__shm_give_up(&arena->memory, status);
    arena->core = core;
    mtask__arena_divide(arena);
    mtask_word_store(&core->magic, MTASK__ARENA_MAGIC);
    status = mtask__shm_publish(&arena->memory);
    arena->core = status == MTASK_OK ? core : NULL;
    return status;
}

static mtask_status mtask__arena_found(mtask_arena *arena, mtask_status status) {
    struct mtask__arena *core = (struct mtask__arena *)arena->memory.data;
    arena->core = NULL;
    if (status != MTASK_OK)
        return status;
    if (arena->memory.size > sizeof *core && mtask_word_load(&core->magic) == MTASK__ARENA_MAGIC &&
        core->end == arena->memory.size) {
        arena->core = core;
        return MTASK_OK;
    }
    return mtask__shm_give_up(&arena->memory, MTASK_INVALID);
}

MTASK_API mtask_status mtask_arena_attach(mtask_arena *arena, const char *name) {
    if (arena == NULL)
        return MTASK_INVALID;
    return mtask__arena_found(arena, mtask_shm_attach(&arena->memory, name));
}

MTASK_API mtask_status mtask_arena_attach_fd(mtask_arena *arena, int fd) {
    if (arena == NULL)
        return MTASK_INVALID;
    return mtask__arena_found(arena, mtask_shm_attach_fd(&arena->memory, fd));
}

static mtask_status mtask__arena_lock(mtask_arena *arena) {
    mtask_status status = mtask_shared_mutex_lock(&arena->core->lock);
    if (status == MTASK_OWNER_DEAD) {
        mtask__arena_mend(arena);
        status = mtask_shared_mutex_consistent(&arena->core->lock);
    }
    return status;
}

/* A piece of that class, split off a larger one if need be; 0: none. With the arena locked. */
static uint64_t mtask__arena_take(mtask_arena *arena, unsigned size_class) {
    unsigned from = size_class;
    uint64_t piece;
    while (from < MTASK__ARENA_CLASSES && arena->core->lists[from] == 0)
        from++;
    if (from == MTASK__ARENA_CLASSES)
        return 0;
    piece = arena->core->lists[from];
    mtask__arena_pull(arena, piece, from);
    while (from > size_class) { /* the second half first: until the first is less, nobody sees it */
        uint64_t half = piece + mtask__arena_piece_size(--from);
        mtask__arena_mark(arena, half, from + 1);
        mtask__arena_mark(arena, piece, from + 1);
        mtask__arena_push(arena, half, from);
    }
    mtask__arena_mark(arena, piece, MTASK__ARENA_USED | (size_class + 1));
    return piece;
}

MTASK_API mtask_status mtask_arena_alloc(mtask_arena *arena, size_t size, void **piece) {
    unsigned size_class = 0;
    uint64_t offset;
    mtask_status status;
    if (piece != NULL)
        *piece = NULL;
    if (arena == NULL || arena->core == NULL || piece == NULL || size == 0)
        return MTASK_INVALID;
    while (size_class < MTASK__ARENA_CLASSES && mtask__arena_piece_size(size_class) < size)
        size_class++;
    if (size_class == MTASK__ARENA_CLASSES)
        return MTASK_NOMEM;
    status = mtask__arena_lock(arena);
    if (status != MTASK_OK)
        return status;
    offset = mtask__arena_take(arena, size_class);
    (void)mtask_shared_mutex_unlock(&arena->core->lock);
    if (offset == 0)
        return MTASK_NOMEM;
    *piece = (char *)arena->core + offset;
    memset(*piece, 0, size);
    return MTASK_OK;
}

/* Whether a piece may begin there. */
static bool mtask__arena_holds(const mtask_arena *arena, uint64_t offset) {
    return offset >= arena->core->first && offset < arena->core->end &&
           (offset - arena->core->first) % MTASK__ARENA_GRANULE == 0;
}

/* Gives a piece back, put together with its other half as long as that is free. With the arena
   locked. */
static void mtask__arena_give(mtask_arena *arena, uint64_t piece, unsigned size_class) {
    const struct mtask__arena *core = arena->core;
    mtask__arena_mark(arena, piece, size_class + 1);
    for (; size_class + 1 < MTASK__ARENA_CLASSES; size_class++) {
        uint64_t other =
            core->first + ((piece - core->first) ^ mtask__arena_piece_size(size_class));
        uint64_t low = other < piece ? other : piece;
        if (low + mtask__arena_piece_size(size_class + 1) > core->end ||
            *mtask__arena_byte(arena, other) != size_class + 1)
            break;
        mtask__arena_pull(arena, other, size_class);
        mtask__arena_mark(arena, low, size_class + 2); /* nobody sees the other any more */
        mtask__arena_mark(arena, other < piece ? piece : other, 0);
        piece = low;
    }
    mtask__arena_push(arena, piece, size_class);
}

MTASK_API mtask_status mtask_arena_free(mtask_arena *arena, void *piece) {
    uint64_t offset;
    unsigned byte;
    mtask_status status;
    if (piece == NULL)
        return MTASK_OK;
    if (arena == NULL || arena->core == NULL)
        return MTASK_INVALID;
    offset = (uint64_t)((uintptr_t)piece - (uintptr_t)arena->core);
    if (!mtask__arena_holds(arena, offset))
        return MTASK_INVALID;
    status = mtask__arena_lock(arena);
    if (status != MTASK_OK)
        return status;
    byte = *mtask__arena_byte(arena, offset);
    if ((byte & MTASK__ARENA_USED) != 0)
        mtask__arena_give(arena, offset, (byte & ~MTASK__ARENA_USED) - 1);
    else
        status = MTASK_INVALID;
    (void)mtask_shared_mutex_unlock(&arena->core->lock);
    return status;
}

MTASK_API size_t mtask_arena_offset(const mtask_arena *arena, const void *piece) {
    if (piece == NULL || arena == NULL || arena->core == NULL)
        return 0;
    return (size_t)((uintptr_t)piece - (uintptr_t)arena->core);
}

MTASK_API void *mtask_arena_at(const mtask_arena *arena, size_t offset) {
    if (offset == 0 || arena == NULL || arena->core == NULL || offset >= arena->core->end)
        return NULL;
    return (char *)arena->core + offset;
}

MTASK_API void mtask_arena_set_root(mtask_arena *arena, void *piece) {
    if (arena != NULL && arena->core != NULL) /* release: pairs with the acquire below */
        mtask__store(&arena->core->root, mtask_arena_offset(arena, piece), RELEASE);
}

MTASK_API void *mtask_arena_root(const mtask_arena *arena) {
    if (arena == NULL || arena->core == NULL)
        return NULL;
    return mtask_arena_at(arena, mtask__load(&arena->core->root, ACQUIRE));
}

MTASK_API size_t mtask_arena_left(const mtask_arena *arena) {
    if (arena == NULL || arena->core == NULL)
        return 0;
    return (size_t)arena->core->spare;
}

MTASK_API mtask_status mtask_arena_close(mtask_arena *arena) {
    if (arena == NULL || arena->core == NULL)
        return MTASK_INVALID;
    arena->core = NULL;
    return mtask_shm_close(&arena->memory);
}

/* ---- >>child: a process of which this one has to take note ---- */

/* Whoever waits first, waits in the system; others wait for it, on the word. A child that has ended
   is taken note of under the lock, and signals are sent under it: so no number is used that may be
   another process's by then. The first waiter sees only that it has ended (WNOWAIT). */
enum { MTASK__CHILD_RUNS, MTASK__CHILD_AWAITED, MTASK__CHILD_ENDED };

typedef struct mtask__child {
    pid_t pid;
    pid_t owner;      /* whose child it is */
    mtask_mutex lock; /* guards the rest; held for moments */
    mtask_word state;
    int code;     /* exit code, or -N, once it has ended */
    int fd;       /* tells of its end: a pidfd, or, `remote`, a socket; -1: none yet */
    int process;  /* `remote`: its pidfd; -1: none */
    bool remote;  /* it is a fork server's child, which sends its code through the socket */
    bool lost;    /* the fork server ended before that */
    bool unknown; /* nobody knows the code: `lost`, or somebody else took note of it */
} mtask__child;

/* What a fork server says of a child, twice: at first its number, then its code. */
typedef struct mtask__remote_news {
    int32_t kind; /* 1: pid; 2: code; 3: the error for which there is none */
    int32_t value;
} mtask__remote_news;

static void mtask__child_init(mtask__child *child, pid_t pid) {
    memset(child, 0, sizeof *child);
    child->pid = pid;
    child->owner = getpid();
    child->fd = child->process = -1;
}

static void mtask__child_deinit(mtask__child *child) {
    mtask__proc_shut(&child->fd);
    mtask__proc_shut(&child->process);
}

static bool mtask__child_has_ended(const mtask__child *child) {
    /* acquire: pairs with the exchange in mtask__child_note, after the code was stored */
    return mtask__load(&child->state, ACQUIRE) == MTASK__CHILD_ENDED;
}

static void mtask__child_note(mtask__child *child, int code) {
    child->code = code;
    if (mtask_word_exchange(&child->state, MTASK__CHILD_ENDED) == MTASK__CHILD_AWAITED)
        mtask_word_wake(&child->state, INT_MAX, MTASK_PRIVATE);
}

static int mtask__child_code(const siginfo_t *info) {
    return info->si_code == CLD_EXITED ? info->si_status : -info->si_status;
}

/* waitid of it, which may only look. Whether it has ended. */
static bool mtask__child_ask(const mtask__child *child, siginfo_t *info, int flags) {
    int result;
    info->si_pid = 0;
    do
        result = waitid(P_PID, (id_t)child->pid, info, WEXITED | flags);
    while (result != 0 && errno == EINTR && (flags & WNOHANG) == 0);
    if (result != 0 && errno == ECHILD) { /* somebody else took note of it, or nobody may */
        info->si_code = CLD_EXITED;
        info->si_status = 255;
        return true;
    }
    return result == 0 && info->si_pid == child->pid;
}

/* Whether a fork server's child has ended that it could not tell of any more. */
static bool mtask__child_is_gone(const mtask__child *child) {
    struct pollfd polled;
    if (child->process < 0)
        return kill(child->pid, 0) != 0 && errno == ESRCH;
    polled.fd = child->process;
    polled.events = POLLIN;
    return poll(&polled, 1, 0) > 0;
}

# define MTASK__NEWS_WAIT 100 /* milliseconds */

/* Takes note of a fork server's child. Under the lock. */
static void mtask__child_notice_remote(mtask__child *child) {
    mtask__remote_news news;
    struct pollfd polled;
    ssize_t got;
    polled.fd = child->fd;
    polled.events = POLLIN;
    if (!child->lost && child->process >= 0 && mtask__child_is_gone(child))
        (void)poll(&polled, 1, MTASK__NEWS_WAIT); /* its server is about to tell */
    if (!child->lost) {
        do
            got = recv(child->fd, &news, sizeof news,
                       MSG_DONTWAIT | MSG_PEEK); /* it stays readable */
        while (got < 0 && errno == EINTR);
        if (got == (ssize_t)sizeof news && news.kind == 2) {
            mtask__child_note(child, news.value);
            return;
        }
        child->lost = got >= 0 || (errno != EAGAIN && errno != EWOULDBLOCK);
    }
    child->unknown = child->lost && mtask__child_is_gone(child);
    if (child->unknown)
        mtask__child_note(child, 255);
}

/* Takes note of it if it has ended. Does not wait. */
static void mtask__child_notice(mtask__child *child) {
    siginfo_t info;
    int saved = errno;
    mtask__lock(&child->lock);
    if (!mtask__child_has_ended(child)) {
        if (child->remote)
            mtask__child_notice_remote(child);
        else if (mtask__child_ask(child, &info, WNOHANG)) {
            child->unknown = info.si_pid == 0;
            mtask__child_note(child, mtask__child_code(&info));
        }
    }
    mtask__unlock(&child->lock);
    errno = saved;
}

/* A look that leaves it to the first waiter to take note. */
static bool mtask__child_ended(mtask__child *child) {
    if (!mtask__child_has_ended(child))
        mtask__child_notice(child);
    return mtask__child_has_ended(child);
}

/* Its descriptor; -1: errno, which is ENOSYS if there is none. Of a fork server's child the socket
   tells when its code is known, its pidfd when it ends: that is what others are given. One that
   has ended has one that is readable: of a pipe that nobody can write to. */
static int mtask__child_fd(mtask__child *child, bool sentinel) {
    int ends[2];
    int fd;
    mtask__lock(&child->lock);
    if (child->lost && child->process < 0)
        mtask__proc_shut(&child->fd); /* it tells of nothing any more */
    errno = ENOSYS;
    if (child->fd < 0 && !mtask__child_has_ended(child)) {
        child->fd = child->remote ? -1 : mtask__os_proc_fd(child->pid);
    } else if (child->fd < 0 && mtask__os_proc_pipe(ends)) {
        close(ends[1]);
        child->fd = ends[0];
    }
    fd = child->process >= 0 && (sentinel || child->lost) ? child->process : child->fd;
    mtask__unlock(&child->lock);
    return fd;
}

/* Where nothing tells of its end: looks ever more seldom. */
static mtask_status mtask__child_watch(mtask__child *child, int64_t deadline) {
    int64_t nap = MTASK_US(100);
    while (!mtask__child_ended(child)) {
        int64_t left = mtask_until(deadline);
        mtask_status status = left == 0 ? MTASK_TIMEOUT : mtask_sleep(nap < left ? nap : left);
        if (status != MTASK_OK)
            return status;
        nap = nap < MTASK_MS(10) ? 2 * nap : nap;
    }
    return MTASK_OK;
}

/* The first waiter's wait. */
static mtask_status mtask__child_sleep(mtask__child *child, int64_t deadline) {
    siginfo_t info;
    if (deadline == MTASK_FOREVER && !child->remote && !mtask__proc_in_task()) {
        (void)mtask__child_ask(child, &info, WNOWAIT);
        mtask__child_notice(child);
    }
    while (!mtask__child_ended(child)) {
        int saved = errno;
        int fd = mtask__child_fd(child, false);
        mtask_status status;
        errno = saved;
        status = fd < 0 ? mtask__child_watch(child, deadline)
                        : mtask_io_wait(fd, MTASK_IO_READ, mtask_until(deadline));
        if (status != MTASK_OK)
            return status;
    }
    return MTASK_OK;
}

/* Waits until it has ended. MTASK_OK, MTASK_TIMEOUT, MTASK_CANCELED, MTASK_SYSTEM ... */
static mtask_status mtask__child_await(mtask__child *child, int64_t deadline) {
    mtask_status status = MTASK_OK;
    while (!mtask__child_ended(child) && status == MTASK_OK) {
        mtask_word seen = MTASK__CHILD_RUNS;
        if (deadline == 0)
            return MTASK_TIMEOUT;
        if (!mtask_word_cas(&child->state, &seen, MTASK__CHILD_AWAITED)) {
            if (seen == MTASK__CHILD_AWAITED)
                status = mtask_word_wait(&child->state, seen, mtask_until(deadline), MTASK_PRIVATE);
            continue;
        }
        status = mtask__child_sleep(child, deadline);
        seen = MTASK__CHILD_AWAITED; /* who leaves early leaves it to another */
        if (status != MTASK_OK && mtask_word_cas(&child->state, &seen, MTASK__CHILD_RUNS))
            mtask_word_wake(&child->state, INT_MAX, MTASK_PRIVATE);
    }
    return mtask__child_has_ended(child) ? MTASK_OK : status;
}

/* The same, whatever happens to the calling task meanwhile. */
static void mtask__child_await_end(mtask__child *child) {
    mtask_shield_begin();
    while (mtask__child_await(child, MTASK_FOREVER) != MTASK_OK)
        mtask__yield();
    mtask_shield_end();
}

/* Under the lock, while it has not been taken note of. */
static int mtask__child_send(const mtask__child *child, int number, bool group) {
    int result;
    if (child->remote && child->process >= 0)
        return mtask__os_proc_signal(child->process, number);
    result = kill(group ? -child->pid : child->pid, number);
    if (result != 0 && errno == ESRCH && group) /* it may be about to begin its group */
        result = kill(child->pid, number);
    return result;
}

/* Sends it a signal; to its whole group. A fork server's child, of which the server takes note, is
   reached by its pidfd, if there are such. */
static mtask_status mtask__child_signal(mtask__child *child, int number, bool group) {
    int result = 0;
    if (number < 0 || number >= NSIG)
        return MTASK_INVALID;
    mtask__lock(&child->lock);
    if (!mtask__child_has_ended(child))
        result = mtask__child_send(child, number, group);
    mtask__unlock(&child->lock);
    return result == 0 || errno == ESRCH ? MTASK_OK : MTASK_SYSTEM;
}

/* ---- >>launch: programs are started ---- */

# define MTASK__FDS_MAX 200 /* descriptors that a process is given beside 0, 1 and 2 */

/* What a new program begins with. */
typedef struct mtask__launch {
    const char *path;
    char *const *argv;
    char *const *env;
    const char *cwd; /* NULL: as here */
    int stdio[3];    /* what become 0, 1 and 2; negative: as here */
    bool join;       /* 2 becomes what 1 is */
    bool null[3];    /* /dev/null */
    const int *fds;  /* more that it has, sorted */
    size_t fd_count;
    bool group;
    bool session;
} mtask__launch;

/* Whether the numbers can be handed on. */
static bool mtask__fds_fit(const int *fds, size_t count) {
    if (count > MTASK__FDS_MAX || (count > 0 && fds == NULL))
        return false;
    for (size_t i = 0; i < count; i++)
        if (fds[i] < 3 || fcntl(fds[i], F_GETFD) < 0)
            return false;
    return true;
}

static int mtask__fds_compare(const void *a, const void *b) {
    int left = *(const int *)a;
    int right = *(const int *)b;
    return (left > right) - (left < right);
}

/* All descriptors are closed but 0, 1, 2 and the named ones, which lose their close-on-exec. Those
   between them are closed one by one: that one is not open is no error there. */
static int mtask__launch_fds(posix_spawn_file_actions_t *actions, const mtask__launch *launch) {
    int next = 3;
    int error = 0;
    for (size_t i = 0; i < launch->fd_count && error == 0; i++) {
        for (; next < launch->fds[i] && error == 0; next++)
            error = posix_spawn_file_actions_addclose(actions, next);
        if (error == 0 && next == launch->fds[i])
            error = posix_spawn_file_actions_adddup2(actions, next, next);
        next = launch->fds[i] + 1;
    }
    return error != 0 ? error : mtask__os_close_from(actions, next);
}

static int mtask__launch_actions(posix_spawn_file_actions_t *actions, const mtask__launch *launch) {
    int error = 0;
    for (int i = 0; i < 3 && error == 0; i++) {
        if (launch->null[i])
            error = posix_spawn_file_actions_addopen(actions, i, "/dev/null",
                                                     i == 0 ? O_RDONLY : O_WRONLY, 0);
        else if (launch->stdio[i] >= 0)
            error = posix_spawn_file_actions_adddup2(actions, launch->stdio[i], i);
    }
    if (error == 0 && launch->join)
        error = posix_spawn_file_actions_adddup2(actions, 1, 2);
    if (error == 0)
        error = mtask__launch_fds(actions, launch);
    if (error == 0 && launch->cwd != NULL)
        error = posix_spawn_file_actions_addchdir_np(actions, launch->cwd);
    return error;
}

/* It begins with no signal blocked, and with those as usual that libraries like to ignore. */
static int mtask__launch_attributes(posix_spawnattr_t *attributes, const mtask__launch *launch) {
    short flags = POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF;
    sigset_t set;
    int error;
    (void)sigemptyset(&set);
    error = posix_spawnattr_setsigmask(attributes, &set);
    (void)sigaddset(&set, SIGPIPE);
    (void)sigaddset(&set, SIGXFSZ);
    if (error == 0)
        error = posix_spawnattr_setsigdefault(attributes, &set);
    if (launch->session)
        flags = (short)(flags | POSIX_SPAWN_SETSID);
    else if (launch->group)
        flags = (short)(flags | POSIX_SPAWN_SETPGROUP);
    if (error == 0)
        error = posix_spawnattr_setpgroup(attributes, 0);
    return error != 0 ? error : posix_spawnattr_setflags(attributes, flags);
}

/* Starts a program: 0 or an error number. */
static int mtask__launch_start(const mtask__launch *launch, pid_t *pid) {
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    int error = posix_spawn_file_actions_init(&actions);
    if (error != 0)
        return error;
    error = posix_spawnattr_init(&attributes);
    if (error == 0) {
        error = mtask__launch_actions(&actions, launch);
        if (error == 0)
            error = mtask__launch_attributes(&attributes, launch);
        if (error == 0)
            error =
                posix_spawn(pid, launch->path, &actions, &attributes, launch->argv, launch->env);
        (void)posix_spawnattr_destroy(&attributes);
    }
    (void)posix_spawn_file_actions_destroy(&actions);
    return error;
}

/* ---- >>cmd ---- */

/* The ends of a command's pipes must not get into processes that others fork meanwhile: as long as
   such a process has one, nobody sees the end of what goes through it. So between the making of the
   pipes and the closing of the command's ends nobody forks; this process's ends are in a list by
   which a forked process closes its copies. */
static void mtask__spawn_begin(void);
static void mtask__spawn_end(void);
static void mtask__cmd_link(mtask_cmd *cmd);
static void mtask__cmd_unlink(mtask_cmd *cmd);

struct mtask_cmd {
    mtask_cmd *next; /* in the process's list */
    mtask_cmd *prev;
    mtask__child child;
    int pipes[3];   /* this process's ends; -1: none, or closed */
    bool group;     /* signals go to all of its group */
    size_t written; /* of the input, so far */
    mtask_buf out;
    mtask_buf err;
};

/* A descriptor beside the standard ones, so that none of them is overwritten before it was copied.
   */
static bool mtask__fd_lift(int *fd) {
    int lifted;
    if (*fd > 2)
        return true;
    lifted = fcntl(*fd, F_DUPFD_CLOEXEC, 3);
    close(*fd);
    *fd = lifted;
    return lifted >= 0;
}

/* A pipe to or from the command. */
static mtask_status mtask__cmd_pipe(mtask_cmd *cmd, mtask__launch *launch, int which) {
    int ends[2];
    int ours = which == 0 ? 1 : 0;
    mtask_status status = MTASK_OK;
    if (!mtask__os_proc_pipe(ends))
        return mtask__proc_refused();
    if (!mtask__fd_lift(&ends[0]) || !mtask__fd_lift(&ends[1]))
        status = MTASK_SYSTEM;
    if (status == MTASK_OK)
        status = mtask_io_adopt(ends[ours]);
    if (status == MTASK_OK) {
        cmd->pipes[which] = ends[ours];
        launch->stdio[which] = ends[1 - ours];
        return MTASK_OK;
    }
    mtask__proc_shut(&ends[0]);
    mtask__proc_shut(&ends[1]);
    return status;
}

/* Where one of the three goes. */
static mtask_status mtask__cmd_connect(mtask_cmd *cmd, mtask__launch *launch, int which,
                                       mtask_cmd_stdio mode, int fd) {
    switch (mode) {
    case MTASK_CMD_INHERIT:
        return MTASK_OK;
    case MTASK_CMD_PIPE:
        return mtask__cmd_pipe(cmd, launch, which);
    case MTASK_CMD_NULL:
        launch->null[which] = true;
        return MTASK_OK;
    case MTASK_CMD_FD:
        launch->stdio[which] = fcntl(fd, F_DUPFD_CLOEXEC, 3);
        return launch->stdio[which] < 0 ? MTASK_SYSTEM : MTASK_OK;
    case MTASK_CMD_TO_STDOUT:
        launch->join = true;
        return which == 2 ? MTASK_OK : MTASK_INVALID;
    default:
        return MTASK_INVALID;
    }
}

static mtask_status mtask__cmd_connect_all(mtask_cmd *cmd, mtask__launch *launch,
                                           const mtask_cmd_opts *opts) {
    mtask_cmd_stdio in = opts->input != NULL ? MTASK_CMD_PIPE : opts->in;
    mtask_cmd_stdio out = opts->capture ? MTASK_CMD_PIPE : opts->out;
    mtask_cmd_stdio err =
        opts->capture && opts->err != MTASK_CMD_TO_STDOUT ? MTASK_CMD_PIPE : opts->err;
    mtask_status status = mtask__cmd_connect(cmd, launch, 0, in, opts->in_fd);
    if (status == MTASK_OK)
        status = mtask__cmd_connect(cmd, launch, 1, out, opts->out_fd);
    if (status == MTASK_OK)
        status = mtask__cmd_connect(cmd, launch, 2, err, opts->err_fd);
    return status;
}

/* The value of PATH in an environment. */
static const char *mtask__env_path(const char *const *env) {
    for (; *env != NULL; env++)
        if (strncmp(*env, "PATH=", 5) == 0)
            return *env + 5;
    return "/usr/local/bin:/bin:/usr/bin";
}

/* The program of that name in `path`: MTASK_OK, MTASK_NOT_FOUND, MTASK_SYSTEM (EACCES: there is
   one, but it cannot be run). */
static mtask_status mtask__cmd_find(const char *name, const char *path, char *found, size_t size) {
    bool denied = false;
    for (;;) {
        size_t length = strcspn(path, ":");
        struct stat info;
        int written = length == 0 ? snprintf(found, size, "./%s", name)
                                  : snprintf(found, size, "%.*s/%s", (int)length, path, name);
        if (written > 0 && (size_t)written < size && stat(found, &info) == 0 &&
            S_ISREG(info.st_mode)) {
            if (access(found, X_OK) == 0)
                return MTASK_OK;
            denied = true;
        }
        if (path[length] == 0)
            break;
        path += length + 1;
    }
    errno = denied ? EACCES : ENOENT;
    return denied ? MTASK_SYSTEM : MTASK_NOT_FOUND;
}

/* Starts what has been prepared. */
static mtask_status mtask__cmd_spawn(mtask_cmd *cmd, const mtask__launch *launch) {
    pid_t pid = 0;
    int error = mtask__launch_start(launch, &pid);
    if (error == 0) {
        mtask__child_init(&cmd->child, pid);
        return MTASK_OK;
    }
    errno = error;
    if (error == ENOENT || error == ENOTDIR)
        return MTASK_NOT_FOUND;
    return mtask__proc_refused();
}

/* The arguments of the shell, in memory of ours; NULL: no memory. */
static const char **mtask__cmd_shell(const char *const *argv) {
    size_t count = 0;
    const char **line;
    while (argv[count] != NULL)
        count++;
    line = (const char **)MTASK_MALLOC((count + 4) * sizeof *line);
    if (line == NULL)
        return NULL;
    line[0] = "sh";
    line[1] = "-c";
    for (size_t i = 0; i <= count; i++)
        line[i + 2] = argv[i];
    return line;
}

static mtask_cmd_opts mtask__cmd_usual; /* all zero */

/* The descriptors to hand on, sorted. */
static mtask_status mtask__launch_name(mtask__launch *launch, int *sorted, const int *fds,
                                       size_t count) {
    if (!mtask__fds_fit(fds, count))
        return MTASK_INVALID;
    if (count > 0)
        memcpy(sorted, fds, count * sizeof *sorted);
    qsort(sorted, count, sizeof *sorted, mtask__fds_compare);
    launch->fds = sorted;
    launch->fd_count = count;
    return MTASK_OK;
}

static mtask_status mtask__cmd_begin(mtask_cmd *cmd, const char *const *argv,
                                     const mtask_cmd_opts *opts) {
    mtask__launch launch;
    int sorted[MTASK__FDS_MAX];
    char found[PATH_MAX];
    const char *const *env = opts->env != NULL ? opts->env : (const char *const *)environ;
    mtask_status status;
    memset(&launch, 0, sizeof launch);
    launch.stdio[0] = launch.stdio[1] = launch.stdio[2] = -1;
    launch.cwd = opts->cwd;
    launch.env = (char *const *)(uintptr_t)env;
    launch.argv = (char *const *)(uintptr_t)argv;
    launch.group = cmd->group;
    launch.session = opts->session;
    launch.path = opts->shell ? "/bin/sh" : argv[0];
    status = mtask__launch_name(&launch, sorted, opts->fds, opts->fd_count);
    if (status == MTASK_OK && strchr(launch.path, '/') == NULL) {
        status = mtask__cmd_find(argv[0], mtask__env_path(env), found, sizeof found);
        launch.path = found;
    }
    if (status != MTASK_OK)
        return status;
    mtask__spawn_begin();
    status = mtask__cmd_connect_all(cmd, &launch, opts);
    if (status == MTASK_OK)
        status = mtask__cmd_spawn(cmd, &launch);
    for (int i = 0; i < 3; i++)
        mtask__proc_shut(&launch.stdio[i]);
    mtask__spawn_end();
    return status;
}

static void mtask__cmd_free(mtask_cmd *cmd) {
    mtask__cmd_unlink(cmd);
    for (int i = 0; i < 3; i++)
        mtask__proc_drop(&cmd->pipes[i]);
    mtask__child_deinit(&cmd->child);
    mtask_buf_free(&cmd->out);
    mtask_buf_free(&cmd->err);
    MTASK_FREE(cmd);
}

/* mtask_cmd_start, with a group or not. */
static mtask_status mtask__cmd_make(mtask_cmd **made, const char *const *argv,
                                    const mtask_cmd_opts *opts, bool group) {
    const char **line = NULL;
    mtask_cmd *cmd;
    mtask_status status;
    *made = NULL;
    if (argv == NULL || argv[0] == NULL || argv[0][0] == 0)
        return MTASK_INVALID;
    cmd = (mtask_cmd *)MTASK_MALLOC(sizeof *cmd);
    if (cmd == NULL)
        return MTASK_NOMEM;
    memset(cmd, 0, sizeof *cmd);
    mtask__child_init(&cmd->child, 0);
    cmd->pipes[0] = cmd->pipes[1] = cmd->pipes[2] = -1;
    cmd->group = group || opts->group || opts->session;
    mtask__cmd_link(cmd);
    if (opts->shell && (line = mtask__cmd_shell(argv)) == NULL)
        status = MTASK_NOMEM;
    else
        status = mtask__cmd_begin(cmd, line != NULL ? line : argv, opts);
    MTASK_FREE(line);
    if (status == MTASK_OK)
        *made = cmd;
    else
        mtask__cmd_free(cmd);
    return status;
}

MTASK_API mtask_status mtask_cmd_start(mtask_cmd **cmd, const char *const *argv,
                                       const mtask_cmd_opts *opts) {
    if (cmd == NULL)
        return MTASK_INVALID;
    return mtask__cmd_make(cmd, argv, opts != NULL ? opts : &mtask__cmd_usual, false);
}

MTASK_API int mtask_cmd_stdin(const mtask_cmd *cmd) {
    return cmd->pipes[0];
}

MTASK_API int mtask_cmd_stdout(const mtask_cmd *cmd) {
    return cmd->pipes[1];
}

MTASK_API int mtask_cmd_stderr(const mtask_cmd *cmd) {
    return cmd->pipes[2];
}

MTASK_API void mtask_cmd_close_stdin(mtask_cmd *cmd) {
    mtask__proc_drop(&cmd->pipes[0]);
}

MTASK_API pid_t mtask_cmd_pid(const mtask_cmd *cmd) {
    return cmd->child.pid;
}

# define MTASK__CMD_PIECE 65536 /* bytes of room for what is read: what a pipe holds */
# define MTASK__CMD_LEAST 8192  /* with less than this there will be more */

/* Reads what is there from one of the pipes. MTASK_OK, also at its end; MTASK_OVERFLOW ... */
static mtask_status mtask__cmd_read(mtask_cmd *cmd, int which, size_t limit) {
    mtask_buf *buf = which == 1 ? &cmd->out : &cmd->err;
    size_t got = 0;
    mtask_status status = MTASK_OK;
    if (buf->data == NULL || buf->capacity - buf->size < MTASK__CMD_LEAST)
        status = mtask_buf_reserve(buf, MTASK__CMD_PIECE);
    if (status != MTASK_OK)
        return status;
    status = mtask_io_read(cmd->pipes[which], buf->data + buf->size, buf->capacity - buf->size,
                           &got, MTASK_NOWAIT);
    if (status == MTASK_OK)
        mtask__buf_grow(buf, got);
    if (limit > 0 && buf->size > limit) {
        buf->size = limit;
        buf->data[limit] = 0;
        return MTASK_OVERFLOW;
    }
    if (status == MTASK_CLOSED || status == MTASK_BROKEN) {
        mtask__proc_drop(&cmd->pipes[which]);
        return MTASK_OK;
    }
    return status == MTASK_TIMEOUT ? MTASK_OK : status;
}

/* Writes as much of the input as the pipe takes; who does not read it does not get it. */
static mtask_status mtask__cmd_write(mtask_cmd *cmd, const void *input, size_t size) {
    size_t put = 0;
    mtask_status status = MTASK_OK;
    if (cmd->written < size)
        status = mtask_io_write(cmd->pipes[0], (const char *)input + cmd->written,
                                size - cmd->written, &put, MTASK_NOWAIT);
    cmd->written += put;
    if (cmd->written >= size || status == MTASK_BROKEN) {
        mtask__proc_drop(&cmd->pipes[0]);
        return MTASK_OK;
    }
    return status == MTASK_TIMEOUT ? MTASK_OK : status;
}

/* Waits for the pipes that are open. MTASK_DONE: there are none. */
static mtask_status mtask__cmd_select(const mtask_cmd *cmd, mtask_io_case *cases,
                                      int64_t deadline) {
    bool open = false;
    for (int i = 0; i < 3; i++) {
        cases[i].fd = cmd->pipes[i];
        cases[i].events = i == 0 ? MTASK_IO_WRITE : MTASK_IO_READ;
        cases[i].ready = 0;
        open = open || cmd->pipes[i] >= 0;
    }
    return open ? mtask_io_select(cases, 3, mtask_until(deadline)) : MTASK_DONE;
}

/* Feeds and reads until all pipes are closed: MTASK_OK. */
static mtask_status mtask__cmd_pump(mtask_cmd *cmd, const void *input, size_t size, size_t limit,
                                    int64_t deadline) {
    mtask_io_case cases[3];
    mtask_status status;
    if (cmd->pipes[0] >= 0 && cmd->written >= size)
        mtask__proc_drop(&cmd->pipes[0]);
    while ((status = mtask__cmd_select(cmd, cases, deadline)) == MTASK_OK) {
        if (cases[0].ready != 0)
            status = mtask__cmd_write(cmd, input, size);
        if (status == MTASK_OK && cases[1].ready != 0)
            status = mtask__cmd_read(cmd, 1, limit);
        if (status == MTASK_OK && cases[2].ready != 0)
            status = mtask__cmd_read(cmd, 2, limit);
        if (status != MTASK_OK)
            return status;
    }
    return status == MTASK_DONE ? MTASK_OK : status;
}

/* Gives back memory that a buffer has got for more to come. */
static void mtask__buf_trim(mtask_buf *buf) {
    char *data;
    if (buf->size == 0) {
        mtask_buf_free(buf);
    } else if (buf->size < buf->capacity / 2) {
        data = (char *)MTASK_REALLOC(buf->data, buf->size + 1);
        buf->capacity = data != NULL ? buf->size : buf->capacity;
        buf->data = data != NULL ? data : buf->data;
    }
}

/* Hands over what has come. */
static void mtask__cmd_deliver(mtask_cmd *cmd, mtask_cmd_result *result) {
    result->code = cmd->child.code;
    mtask__buf_trim(&cmd->out);
    mtask__buf_trim(&cmd->err);
    result->out = cmd->out;
    result->err = cmd->err;
    memset(&cmd->out, 0, sizeof cmd->out);
    memset(&cmd->err, 0, sizeof cmd->err);
}

MTASK_API mtask_status mtask_cmd_communicate(mtask_cmd *cmd, const void *input, size_t size,
                                             size_t limit, mtask_cmd_result *result,
                                             int64_t timeout) {
    int64_t deadline;
    mtask_status status;
    if (result != NULL)
        memset(result, 0, sizeof *result);
    status = cmd == NULL || (input == NULL && size > 0) ? MTASK_INVALID
                                                        : mtask__deadline(timeout, &deadline);
    if (status == MTASK_OK && cmd->child.owner != getpid())
        status = MTASK_INVALID;
    if (status == MTASK_OK)
        status = mtask__cmd_pump(cmd, input, size, limit, deadline);
    if (status == MTASK_OK)
        status = mtask__child_await(&cmd->child, deadline);
    if ((status == MTASK_OK || status == MTASK_OVERFLOW) && result != NULL)
        mtask__cmd_deliver(cmd, result);
    return status;
}

MTASK_API mtask_status mtask_cmd_wait(mtask_cmd *cmd, int *code, int64_t timeout) {
    int64_t deadline;
    mtask_status status = cmd == NULL ? MTASK_INVALID : mtask__deadline(timeout, &deadline);
    if (status == MTASK_OK && cmd->child.owner != getpid())
        status = MTASK_INVALID;
    if (status == MTASK_OK)
        status = mtask__child_await(&cmd->child, deadline);
    if (status == MTASK_OK && code != NULL)
        *code = cmd->child.code;
    return status;
}

MTASK_API mtask_status mtask_cmd_poll(mtask_cmd *cmd, int *code) {
    return mtask_cmd_wait(cmd, code, MTASK_NOWAIT);
}

MTASK_API mtask_status mtask_cmd_signal(mtask_cmd *cmd, int number) {
    if (cmd == NULL || cmd->child.owner != getpid())
        return MTASK_INVALID;
    return mtask__child_signal(&cmd->child, number, cmd->group);
}

MTASK_API mtask_status mtask_cmd_terminate(mtask_cmd *cmd) {
    return mtask_cmd_signal(cmd, SIGTERM);
}

MTASK_API mtask_status mtask_cmd_kill(mtask_cmd *cmd) {
    return mtask_cmd_signal(cmd, SIGKILL);
}

/* Ends it, and all its group: also what it has left behind when it ended itself, as long as that is
   sure to be its group. */
static void mtask__cmd_end(mtask_cmd *cmd) {
    (void)mtask_cmd_kill(cmd);
    mtask__child_await_end(&cmd->child);
}

MTASK_API void mtask_cmd_destroy(mtask_cmd *cmd) {
    if (cmd == NULL)
        return;
    if (cmd->child.owner == getpid())
        mtask__cmd_end(cmd);
    mtask__cmd_free(cmd);
}

/* What has come from one that was killed before it was read. */
static void mtask__cmd_read_rest(mtask_cmd *cmd, size_t limit) {
    for (int i = 1; i < 3; i++) {
        const mtask_buf *buf = i == 1 ? &cmd->out : &cmd->err;
        size_t before;
        do
            before = buf->size;
        while (cmd->pipes[i] >= 0 && mtask__cmd_read(cmd, i, limit) == MTASK_OK &&
               buf->size > before);
    }
}

MTASK_API mtask_status mtask_cmd_run(const char *const *argv, const mtask_cmd_opts *opts,
                                     mtask_cmd_result *result) {
    mtask_cmd_result own;
    mtask_cmd *cmd = NULL;
    int64_t timeout;
    int error;
    mtask_status status;
    opts = opts != NULL ? opts : &mtask__cmd_usual;
    timeout = opts->timeout == 0 ? MTASK_FOREVER : opts->timeout;
    result = result != NULL ? result : &own;
    memset(result, 0, sizeof *result);
    if (timeout < 0 || (opts->input == NULL && opts->input_size > 0))
        return MTASK_INVALID;
    status = mtask__cmd_make(&cmd, argv, opts, opts->timeout != 0 || opts->limit != 0);
    if (status != MTASK_OK)
        return status;
    status =
        mtask_cmd_communicate(cmd, opts->input, opts->input_size, opts->limit, result, timeout);
    error = errno;
    if (status != MTASK_OK) {
        mtask__cmd_end(cmd);
        result->code = cmd->child.code;
        if (status != MTASK_OVERFLOW) {
            mtask__cmd_read_rest(cmd, opts->limit);
            mtask__cmd_deliver(cmd, result);
        }
    }
    mtask_cmd_destroy(cmd);
    errno = error;
    if (status == MTASK_OK && opts->check && result->code != 0)
        status = MTASK_FAILED;
    if (result == &own)
        mtask_cmd_result_free(&own);
    return status;
}

MTASK_API void mtask_cmd_result_free(mtask_cmd_result *result) {
    if (result == NULL)
        return;
    mtask_buf_free(&result->out);
    mtask_buf_free(&result->err);
}

/* ---- >>conn ---- */

/* Two ways to carry messages. Packets, between processes of one machine: 8 bytes of length with all
   of a message of up to MTASK__CONN_SMALL bytes are one packet; a longer one is a packet of its
   length alone and packets of its pieces. So short messages come whole, whoever sends and receives.
   Bytes, over stream sockets: 4 bytes of length, most significant first, or -1 and 8 bytes, then
   the message, as Python's multiprocessing.connection has it. */
# define MTASK__CONN_SMALL 16384u
# define MTASK__CONN_PIECE 65536u
# define MTASK__CONN_FDS   16                /* that come with one message */
# define MTASK__CONN_STEP  ((size_t)1 << 20) /* memory taken ahead of what has arrived */

struct mtask_conn {
    int fd;
    bool packets;
    bool local;   /* descriptors can go along */
    bool deaf;    /* it only sends */
    bool mute;    /* it only receives */
    bool cut;     /* a message was sent in part: no more can be */
    bool spoiled; /* what came was no message */
    bool begun;   /* the length of a message has come: */
    uint64_t length;
    size_t limit; /* 0: none */
    size_t head_got;
    unsigned char head[12];
    size_t short_size;        /* of the message that lies in `packet` */
    mtask_buf partial;        /* what has come of a long one */
    char *packet;             /* 8 + MTASK__CONN_SMALL bytes; NULL: not needed yet */
    int fds[MTASK__CONN_FDS]; /* that came with it */
    size_t fd_count;
    bool fds_lost; /* there were more, but no numbers for them */
};

static mtask_status mtask__conn_make(mtask_conn **made, int fd) {
    int type = 0;
    socklen_t size = sizeof type;
    mtask_address address;
    mtask_conn *conn;
    mtask_status status;
    *made = NULL;
    if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) != 0)
        return errno == ENOTSOCK ? MTASK_INVALID : MTASK_SYSTEM;
    if (type != SOCK_STREAM && type != SOCK_SEQPACKET)
        return MTASK_INVALID;
    conn = (mtask_conn *)MTASK_MALLOC(sizeof *conn);
    if (conn == NULL)
        return MTASK_NOMEM;
    memset(conn, 0, sizeof *conn);
    conn->fd = fd;
    conn->packets = type == SOCK_SEQPACKET;
    conn->local = mtask_io_local(fd, &address) == MTASK_OK && address.as.any.sa_family == AF_UNIX;
    status = fcntl(fd, F_SETFD, FD_CLOEXEC) == 0 ? mtask_io_adopt(fd) : MTASK_SYSTEM;
    if (status != MTASK_OK) {
        MTASK_FREE(conn);
        return status;
    }
    *made = conn;
    return MTASK_OK;
}

MTASK_API mtask_status mtask_conn_open(mtask_conn **conn, int fd) {
    if (conn == NULL)
        return MTASK_INVALID;
    return mtask__conn_make(conn, fd);
}

MTASK_API mtask_status mtask_pipe(mtask_conn **a, mtask_conn **b, bool duplex) {
    int ends[2];
    mtask_status status;
    if (a == NULL || b == NULL)
        return MTASK_INVALID;
    *a = *b = NULL;
    if (!mtask__os_proc_pair(ends, true))
        return mtask__proc_refused();
    status = mtask__conn_make(a, ends[0]);
    if (status != MTASK_OK) {
        mtask__proc_shut(&ends[0]);
    } else {
        status = mtask__conn_make(b, ends[1]);
        if (status != MTASK_OK) {
            (void)mtask_conn_close(*a);
            *a = NULL;
        }
    }
    if (status != MTASK_OK) {
        mtask__proc_shut(&ends[1]);
        return status;
    }
    (*a)->mute = (*b)->deaf = !duplex;
    return MTASK_OK;
}

MTASK_API int mtask_conn_fd(const mtask_conn *conn) {
    return conn == NULL ? -1 : conn->fd;
}

MTASK_API void mtask_conn_set_limit(mtask_conn *conn, size_t limit) {
    conn->limit = limit;
}

/* Closes what came with a message and nobody has taken. */
static void mtask__conn_drop_fds(mtask_conn *conn) {
    for (size_t i = 0; i < conn->fd_count; i++)
        mtask__proc_shut(&conn->fds[i]);
    conn->fd_count = 0;
    conn->fds_lost = false;
}

MTASK_API mtask_status mtask_conn_close(mtask_conn *conn) {
    mtask_status status;
    if (conn == NULL)
        return MTASK_OK;
    status = mtask_io_close(conn->fd);
    mtask__conn_drop_fds(conn);
    mtask_buf_free(&conn->partial);
    MTASK_FREE(conn->packet);
    MTASK_FREE(conn);
    return status;
}

/* ---- >>conn-send ---- */

/* Writes the length before a message; how many bytes that takes. */
static size_t mtask__conn_head(const mtask_conn *conn, uint64_t length, unsigned char *head) {
    size_t size = 0;
    if (conn->packets) {
        memcpy(head, &length, sizeof length);
        return sizeof length;
    }
    if (length > INT32_MAX) {
        memset(head, 0xff, 4);
        size = 4;
    }
    for (int shift = size == 4 ? 56 : 24; shift >= 0; shift -= 8)
        head[size++] = (unsigned char)(length >> shift);
    return size;
}

/* Sends the first packet, or bytes, with descriptors: the system takes them with the first byte. */
static mtask_status mtask__conn_send_with(mtask_conn *conn, struct iovec *parts, int n,
                                          const int *fds, size_t count, size_t *sent,
                                          int64_t deadline) {
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(MTASK__CONN_FDS * sizeof(int))];
    } control;
    struct msghdr message;
    memset(&message, 0, sizeof message);
    memset(&control, 0, sizeof control);
    message.msg_iov = parts;
    message.msg_iovlen = (size_t)n;
    mtask__message_carry(&message, control.bytes, fds, count);
    for (;;) {
        ssize_t put = sendmsg(conn->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
        mtask_status status;
        if (put >= 0) {
            *sent = (size_t)put;
            return MTASK_OK;
        }
        if (errno == EINTR)
            continue;
        if (errno == EPIPE || errno == ECONNRESET)
            return MTASK_BROKEN;
        if (errno != EAGAIN && errno != EWOULDBLOCK)
            return MTASK_SYSTEM;
        status = deadline == 0
                     ? MTASK_TIMEOUT
                     : mtask__io_wait_after(conn->fd, MTASK_IO_WRITE, mtask_until(deadline));
        if (status != MTASK_OK)
            return status;
    }
}

/* Leaves out what has been sent of the parts. */
static void mtask__parts_skip(struct iovec *parts, int n, size_t sent) {
    for (int i = 0; i < n; i++) {
        size_t skip = sent < parts[i].iov_len ? sent : parts[i].iov_len;
        parts[i].iov_base = (char *)parts[i].iov_base + skip;
        parts[i].iov_len -= skip;
        sent -= skip;
    }
}

/* The rest of a long message as packets. */
static mtask_status mtask__conn_send_pieces(mtask_conn *conn, const char *data, size_t size,
                                            int64_t deadline) {
    mtask_status status = MTASK_OK;
    while (size > 0 && status == MTASK_OK) {
        size_t piece = size < MTASK__CONN_PIECE ? size : MTASK__CONN_PIECE;
        status = mtask_io_write(conn->fd, data, piece, NULL, mtask_until(deadline));
        data += piece;
        size -= piece;
    }
    return status;
}

/* Sends a message; *began becomes whether a part of it was. */
static mtask_status mtask__conn_put(mtask_conn *conn, const void *data, size_t size, const int *fds,
                                    size_t count, bool *began, int64_t deadline) {
    unsigned char head[12];
    struct iovec parts[2];
    bool pieces = conn->packets && size > MTASK__CONN_SMALL;
    size_t sent = 0;
    size_t more = 0;
    mtask_status status = MTASK_OK;
    parts[0].iov_base = head;
    parts[0].iov_len = mtask__conn_head(conn, size, head);
    parts[1].iov_base = (void *)(uintptr_t)data;
    parts[1].iov_len = pieces ? 0 : size;
    if (count > 0) {
        status = mtask__conn_send_with(conn, parts, 2, fds, count, &sent, deadline);
        mtask__parts_skip(parts, 2, sent);
    }
    if (status == MTASK_OK && parts[0].iov_len + parts[1].iov_len > 0)
        status = mtask_io_writev(conn->fd, parts, 2, &more, mtask_until(deadline));
    *began = sent + more > 0;
    if (status == MTASK_OK && pieces)
        status = mtask__conn_send_pieces(conn, (const char *)data, size, deadline);
    return status;
}

MTASK_API mtask_status mtask_conn_send_fds(mtask_conn *conn, const void *data, size_t size,
                                           const int *fds, size_t count, int64_t timeout) {
    int64_t deadline;
    bool began = false;
    mtask_status status;
    if (conn == NULL || conn->mute || (data == NULL && size > 0) || count > MTASK__CONN_FDS ||
        (count > 0 && fds == NULL))
        return MTASK_INVALID;
    status = mtask__deadline(timeout, &deadline);
    if (status != MTASK_OK)
        return status;
    if (conn->cut)
        return MTASK_BROKEN;
    if (count > 0 && !conn->local)
        return MTASK_UNSUPPORTED;
    status = mtask__conn_put(conn, data, size, fds, count, &began, deadline);
    conn->cut = status != MTASK_OK && began;
    return status;
}

MTASK_API mtask_status mtask_conn_send(mtask_conn *conn, const void *data, size_t size,
                                       int64_t timeout) {
    return mtask_conn_send_fds(conn, data, size, NULL, 0, timeout);
}

/* ---- >>conn-receive ---- */

/* Takes over the descriptors that have come. */
static void mtask__conn_take_fds(mtask_conn *conn, struct msghdr *message) {
    for (struct cmsghdr *header = CMSG_FIRSTHDR(message); header != NULL;
         header = CMSG_NXTHDR(message, header)) {
        size_t count;
        if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS)
            continue;
        count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < count; i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(header) + i * sizeof fd, sizeof fd);
            if (conn->fd_count < MTASK__CONN_FDS)
                conn->fds[conn->fd_count++] = fd;
            else
                mtask__proc_shut(&fd);
        }
    }
    conn->fds_lost = conn->fds_lost ||
                     ((message->msg_flags & MSG_CTRUNC) != 0 && conn->fd_count < MTASK__CONN_FDS);
}

/* Receives once, waiting for it, descriptors too. MTASK_CLOSED: the end. */
static mtask_status mtask__conn_receive_with(mtask_conn *conn, void *buffer, size_t capacity,
                                             size_t *got, int64_t deadline) {
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(MTASK__CONN_FDS * sizeof(int))];
    } control;
    for (;;) {
        struct msghdr message;
        struct iovec part;
        ssize_t count;
        mtask_status status;
        memset(&message, 0, sizeof message);
        part.iov_base = buffer;
        part.iov_len = capacity;
        message.msg_iov = &part;
        message.msg_iovlen = 1;
        message.msg_control = control.bytes;
        message.msg_controllen = sizeof control.bytes;
        count = recvmsg(conn->fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
        if (count >= 0) {
            mtask__conn_take_fds(conn, &message);
            *got = (size_t)count;
            return count == 0 ? MTASK_CLOSED : MTASK_OK;
        }
        if (errno == ECONNRESET)
            return MTASK_BROKEN;
        if (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR)
            return MTASK_SYSTEM;
        if (errno == EINTR)
            continue;
        status = deadline == 0
                     ? MTASK_TIMEOUT
                     : mtask__io_wait_after(conn->fd, MTASK_IO_READ, mtask_until(deadline));
        if (status != MTASK_OK)
            return status;
    }
}

/* One read. An end that was closed with something unread in it tells us of that first, and only
   once: what it had sent comes behind. */
static mtask_status mtask__conn_read(mtask_conn *conn, void *buffer, size_t capacity, size_t *got,
                                     bool with_fds, int64_t deadline) {
    mtask_status status = MTASK_BROKEN;
    *got = 0;
    for (int i = 0; i < 2 && status == MTASK_BROKEN; i++)
        status = with_fds ? mtask__conn_receive_with(conn, buffer, capacity, got, deadline)
                          : mtask_io_read(conn->fd, buffer, capacity, got, mtask_until(deadline));
    return status == MTASK_BROKEN && errno != EBADF ? MTASK_CLOSED : status;
}

static mtask_status mtask__conn_spoil(mtask_conn *conn, mtask_status status) {
    conn->spoiled = true;
    return status;
}

/* Whether a message of that length is wanted. */
static mtask_status mtask__conn_admit(mtask_conn *conn, uint64_t length) {
    if ((conn->limit > 0 && length > conn->limit) || length > SIZE_MAX / 4)
        return mtask__conn_spoil(conn, MTASK_OVERFLOW);
    conn->length = length;
    conn->begun = true;
    return MTASK_OK;
}

/* Receives the packet with which a message begins, all of it if it is short. */
static mtask_status mtask__conn_begin_packet(mtask_conn *conn, int64_t deadline) {
    uint64_t length;
    size_t got;
    mtask_status status;
    if (conn->packet == NULL)
        conn->packet = (char *)MTASK_MALLOC(sizeof length + MTASK__CONN_SMALL);
    if (conn->packet == NULL)
        return MTASK_NOMEM;
    status = mtask__conn_read(conn, conn->packet, sizeof length + MTASK__CONN_SMALL, &got,
                              conn->local, deadline);
    if (status != MTASK_OK)
        return status;
    if (got < sizeof length)
        return mtask__conn_spoil(conn, MTASK_BROKEN);
    memcpy(&length, conn->packet, sizeof length);
    conn->short_size = got - sizeof length;
    if (length <= MTASK__CONN_SMALL ? conn->short_size != length : conn->short_size != 0)
        return mtask__conn_spoil(conn, MTASK_BROKEN);
    return mtask__conn_admit(conn, length);
}

/* The length in a head that has come whole; how many bytes it needs, while it has not. */
static size_t mtask__conn_parse_head(const mtask_conn *conn, uint64_t *length) {
    const unsigned char *head = conn->head;
    size_t need = 4;
    *length = 0;
    if (conn->head_got < 4)
        return 4;
    if (head[0] == 0xff && head[1] == 0xff && head[2] == 0xff && head[3] == 0xff)
        need = 12;
    for (size_t i = need == 12 ? 4 : 0; i < need && conn->head_got == need; i++)
        *length = *length << 8 | head[i];
    return need;
}

/* Receives the head of a message on a stream. */
static mtask_status mtask__conn_begin_stream(mtask_conn *conn, int64_t deadline) {
    uint64_t length;
    size_t need;
    while ((need = mtask__conn_parse_head(conn, &length)) > conn->head_got) {
        size_t got;
        mtask_status status = mtask__conn_read(conn, conn->head + conn->head_got,
                                               need - conn->head_got, &got, conn->local, deadline);
        if (status != MTASK_OK)
            return status;
        conn->head_got += got;
    }
    if (need == 4 && length > INT32_MAX) /* negative */
        return mtask__conn_spoil(conn, MTASK_BROKEN);
    return mtask__conn_admit(conn, length);
}

static mtask_status mtask__conn_begin(mtask_conn *conn, int64_t deadline) {
    if (conn->begun)
        return MTASK_OK;
    if (conn->spoiled)
        return MTASK_BROKEN;
    return conn->packets ? mtask__conn_begin_packet(conn, deadline)
                         : mtask__conn_begin_stream(conn, deadline);
}

/* The message has been handed out. */
static void mtask__conn_next(mtask_conn *conn) {
    conn->begun = false;
    conn->head_got = 0;
    conn->short_size = 0;
    mtask__buf_clear(&conn->partial);
}

/* Whether all of it lies in `packet`. */
static bool mtask__conn_is_short(const mtask_conn *conn) {
    return conn->packets && conn->length <= MTASK__CONN_SMALL;
}

/* Reads once into the memory of a long message, of which `*have` bytes have come. */
static mtask_status mtask__conn_more(mtask_conn *conn, char *to, size_t room, size_t *have,
                                     int64_t deadline) {
    size_t left = (size_t)conn->length - *have;
    size_t got;
    mtask_status status;
    if (conn->packets && left > MTASK__CONN_PIECE)
        left = MTASK__CONN_PIECE;
    status = mtask__conn_read(conn, to + *have, left < room ? left : room, &got, false, deadline);
    *have += got;
    return status;
}

/* Receives the rest of a long message into conn->partial. */
static mtask_status mtask__conn_fill(mtask_conn *conn, int64_t deadline) {
    mtask_buf *partial = &conn->partial;
    mtask_status status = MTASK_OK;
    while (status == MTASK_OK && partial->size < conn->length) {
        size_t left = (size_t)conn->length - partial->size;
        size_t ahead = partial->size < MTASK__CONN_STEP ? MTASK__CONN_STEP : partial->size;
        status = mtask_buf_reserve(partial, left < ahead ? left : ahead);
        if (status != MTASK_OK)
            break;
        status = mtask__conn_more(conn, partial->data, partial->capacity - partial->size,
                                  &partial->size, deadline);
        partial->data[partial->size] = 0;
    }
    if (status == MTASK_CLOSED)
        mtask__conn_next(conn);
    return status;
}

/* What every receiving begins with. */
static mtask_status mtask__conn_enter(mtask_conn *conn, int64_t timeout, int64_t *deadline) {
    mtask_status status = conn->deaf ? MTASK_INVALID : mtask__deadline(timeout, deadline);
    return status == MTASK_OK ? mtask__conn_begin(conn, *deadline) : status;
}

static mtask_status mtask__conn_get(mtask_conn *conn, mtask_buf *message, int64_t timeout) {
    int64_t deadline;
    mtask_buf whole;
    mtask_status status = mtask__conn_enter(conn, timeout, &deadline);
    mtask__buf_clear(message);
    if (status != MTASK_OK)
        return status;
    if (mtask__conn_is_short(conn)) {
        status = mtask_buf_append(message, conn->packet + sizeof conn->length, conn->short_size);
    } else {
        if (conn->partial.size == 0) { /* the caller's memory serves */
            whole = conn->partial;
            conn->partial = *message;
            *message = whole;
        }
        status = mtask__conn_fill(conn, deadline);
        if (status == MTASK_OK) {
            whole = conn->partial;
            conn->partial = *message;
            *message = whole;
            status = mtask_buf_reserve(message, 0);
        }
    }
    if (status == MTASK_OK)
        mtask__conn_next(conn);
    return status;
}

MTASK_API mtask_status mtask_conn_recv(mtask_conn *conn, mtask_buf *message, int64_t timeout) {
    mtask_status status;
    if (conn == NULL || message == NULL)
        return MTASK_INVALID;
    status = mtask__conn_get(conn, message, timeout);
    if (status == MTASK_OK)
        mtask__conn_drop_fds(conn);
    return status;
}

/* Receives the rest of a long message into the caller's memory. If that ends early, what has come
   is kept for the next call. */
static mtask_status mtask__conn_fill_into(mtask_conn *conn, char *buffer, int64_t deadline) {
    size_t have = conn->partial.size;
    mtask_status status = MTASK_OK;
    if (have > 0)
        memcpy(buffer, conn->partial.data, have);
    while (status == MTASK_OK && have < conn->length)
        status = mtask__conn_more(conn, buffer, (size_t)conn->length - have, &have, deadline);
    if (status == MTASK_CLOSED)
        mtask__conn_next(conn);
    else if (status != MTASK_OK && mtask_buf_append(&conn->partial, buffer + conn->partial.size,
                                                    have - conn->partial.size) != MTASK_OK)
        return mtask__conn_spoil(conn, MTASK_BROKEN);
    return status;
}

MTASK_API mtask_status mtask_conn_recv_into(mtask_conn *conn, void *buffer, size_t capacity,
                                            size_t *size, int64_t timeout) {
    int64_t deadline;
    mtask_status status;
    if (size != NULL)
        *size = 0;
    if (conn == NULL || size == NULL || (buffer == NULL && capacity > 0))
        return MTASK_INVALID;
    status = mtask__conn_enter(conn, timeout, &deadline);
    if (status != MTASK_OK)
        return status;
    *size = (size_t)conn->length;
    if (*size > capacity)
        return MTASK_OVERFLOW;
    if (!mtask__conn_is_short(conn))
        status = mtask__conn_fill_into(conn, (char *)buffer, deadline);
    else if (conn->short_size > 0)
        memcpy(buffer, conn->packet + sizeof conn->length, conn->short_size);
    if (status == MTASK_OK) {
        mtask__conn_next(conn);
        mtask__conn_drop_fds(conn);
    } else {
        *size = 0;
    }
    return status;
}

MTASK_API mtask_status mtask_conn_recv_fds(mtask_conn *conn, mtask_buf *message, int *fds,
                                           size_t capacity, size_t *count, int64_t timeout) {
    int64_t deadline;
    mtask_status status;
    if (count != NULL)
        *count = 0;
    if (conn == NULL || message == NULL || count == NULL || (fds == NULL && capacity > 0))
        return MTASK_INVALID;
    status = mtask__conn_enter(conn, timeout, &deadline);
    if (status == MTASK_OK && conn->fds_lost) {
        mtask__conn_drop_fds(conn);
        errno = EMFILE;
        return MTASK_SYSTEM;
    }
    if (status == MTASK_OK)
        status = mtask__conn_get(conn, message, mtask_until(deadline));
    if (status != MTASK_OK)
        return status;
    for (size_t i = 0; i < conn->fd_count; i++)
        if (*count < capacity)
            fds[(*count)++] = conn->fds[i];
        else
            mtask__proc_shut(&conn->fds[i]);
    conn->fd_count = 0;
    return MTASK_OK;
}

MTASK_API mtask_status mtask_conn_poll(mtask_conn *conn, int64_t timeout) {
    if (conn == NULL || conn->deaf || timeout < 0)
        return MTASK_INVALID;
    if (conn->begun || conn->spoiled)
        return MTASK_OK;
    return mtask_io_wait(conn->fd, MTASK_IO_READ, timeout);
}

# define MTASK__CONN_FEW 16 /* cases that are waited for without an allocation */

MTASK_API mtask_status mtask_conn_wait(mtask_conn_case *cases, size_t count, int64_t timeout) {
    mtask_io_case few[MTASK__CONN_FEW];
    mtask_io_case *all = few;
    bool there = false;
    mtask_status status;
    if (cases == NULL || count == 0 || count > 1024 || timeout < 0)
        return MTASK_INVALID;
    if (count > MTASK__CONN_FEW)
        all = (mtask_io_case *)MTASK_MALLOC(count * sizeof *all);
    if (all == NULL)
        return MTASK_NOMEM;
    for (size_t i = 0; i < count; i++) {
        const mtask_conn *conn = cases[i].conn;
        cases[i].ready = conn != NULL && (conn->begun || conn->spoiled);
        there = there || cases[i].ready;
        all[i].fd = conn != NULL ? conn->fd : cases[i].fd;
        all[i].events = MTASK_IO_READ;
        all[i].ready = 0;
    }
    status = mtask_io_select(all, count, there ? MTASK_NOWAIT : timeout);
    for (size_t i = 0; i < count && status == MTASK_OK; i++)
        cases[i].ready = cases[i].ready || all[i].ready != 0;
    if (all != few)
        MTASK_FREE(all);
    return there && status == MTASK_TIMEOUT ? MTASK_OK : status;
}

/* ---- >>conn-auth: each side has the other prove that it knows the key ---- */

/* One side sends "#CHALLENGE#", "{sha256}" and random bytes; the other answers "{sha256}" and the
   HMAC of all behind "#CHALLENGE#"; that is answered by "#WELCOME#" or "#FAILURE#". Then the other
   way round; the listener's challenge comes first. Up to Python 3.11, the challenge has no name of
   a digest, the answer is the bare HMAC-MD5. */
# define MTASK__AUTH_MESSAGE 256 /* no message of it is longer */
# define MTASK__AUTH_RANDOM  40
# define MTASK__AUTH_LEAST   20 /* bytes of a challenge; exactly so many have no name of a digest */
# define MTASK__AUTH_MAC     64

typedef struct mtask__auth {
    const mtask_conn_desc *desc;
    mtask_conn *conn;
    int64_t deadline;
} mtask__auth;

static const char mtask__auth_challenge[] = "#CHALLENGE#";
static const char mtask__auth_welcome[] = "#WELCOME#";
static const char mtask__auth_failure[] = "#FAILURE#";

/* An end, or what is no message, means that the other side does not know it. */
static mtask_status mtask__auth_status(mtask_status status) {
    return status == MTASK_CLOSED || status == MTASK_BROKEN || status == MTASK_OVERFLOW ? MTASK_AUTH
                                                                                        : status;
}

static mtask_status mtask__auth_send(const mtask__auth *auth, const void *data, size_t size) {
    return mtask__auth_status(mtask_conn_send(auth->conn, data, size, mtask_until(auth->deadline)));
}

static mtask_status mtask__auth_receive(const mtask__auth *auth, char *message, size_t *size) {
    return mtask__auth_status(mtask_conn_recv_into(auth->conn, message, MTASK__AUTH_MESSAGE, size,
                                                   mtask_until(auth->deadline)));
}

static bool mtask__auth_mac(const mtask__auth *auth, const char *digest, const void *data,
                            size_t size, unsigned char *mac, size_t *mac_size) {
    const mtask_conn_desc *desc = auth->desc;
    *mac_size = 0;
    return desc->hmac(digest, desc->key, desc->key_size, data, size, mac, mac_size, desc->ctx) &&
           *mac_size > 0 && *mac_size <= MTASK__AUTH_MAC;
}

/* The name of a digest in front of a message, "{sha256}": its length with the braces; 0: none. */
static size_t mtask__auth_digest(const char *message, size_t size, char *digest) {
    size_t length = 1;
    if (size == 0 || message[0] != '{')
        return 0;
    while (length < size && length < 20 && message[length] != '}')
        length++;
    if (length >= size || message[length] != '}')
        return 0;
    memcpy(digest, message + 1, length - 1);
    digest[length - 1] = 0;
    return length + 1;
}

/* Compares in a time that does not tell where they differ. */
static bool mtask__auth_same(const unsigned char *a, const unsigned char *b, size_t size) {
    unsigned different = 0;
    for (size_t i = 0; i < size; i++)
        different |= (unsigned)(a[i] ^ b[i]);
    return different == 0;
}

/* Whether an answer proves that its sender knows the key. */
static bool mtask__auth_proves(const mtask__auth *auth, const char *challenge, size_t size,
                               const char *answer, size_t answer_size) {
    unsigned char mac[MTASK__AUTH_MAC];
    size_t mac_size;
    char digest[20];
    size_t skip = mtask__auth_digest(answer, answer_size, digest);
    if (skip == 0 && answer_size == 16)
        memcpy(digest, "md5", 4);
    else if (skip == 0)
        return false;
    if (strcmp(digest, "md5") == 0 && !auth->desc->md5)
        return false;
    return mtask__auth_mac(auth, digest, challenge, size, mac, &mac_size) &&
           mac_size == answer_size - skip &&
           mtask__auth_same(mac, (const unsigned char *)answer + skip, mac_size);
}

/* Has the other side prove it. */
static mtask_status mtask__auth_ask(const mtask__auth *auth) {
    char message[MTASK__AUTH_MESSAGE] = "#CHALLENGE#{sha256}";
    char answer[MTASK__AUTH_MESSAGE];
    size_t head = strlen(mtask__auth_challenge);
    size_t size = strlen(message) + MTASK__AUTH_RANDOM;
    size_t answer_size;
    bool proven;
    mtask_status status;
    if (getentropy(message + strlen(message), MTASK__AUTH_RANDOM) != 0)
        return MTASK_SYSTEM;
    status = mtask__auth_send(auth, message, size);
    if (status == MTASK_OK)
        status = mtask__auth_receive(auth, answer, &answer_size);
    if (status != MTASK_OK)
        return status;
    proven = mtask__auth_proves(auth, message + head, size - head, answer, answer_size);
    status = proven ? mtask__auth_send(auth, mtask__auth_welcome, strlen(mtask__auth_welcome))
                    : mtask__auth_send(auth, mtask__auth_failure, strlen(mtask__auth_failure));
    return proven ? status : MTASK_AUTH;
}

/* The answer to a challenge: its size; 0: there is none. */
static size_t mtask__auth_prove(const mtask__auth *auth, const char *challenge, size_t size,
                                char *answer) {
    char digest[20];
    size_t skip = mtask__auth_digest(challenge, size, digest);
    unsigned char mac[MTASK__AUTH_MAC];
    size_t mac_size;
    if (size < MTASK__AUTH_LEAST || (skip == 0 && size != MTASK__AUTH_LEAST))
        return 0;
    if (skip == 0)
        memcpy(digest, "md5", 4);
    if ((strcmp(digest, "md5") == 0 && !auth->desc->md5) ||
        !mtask__auth_mac(auth, digest, challenge, size, mac, &mac_size))
        return 0;
    memcpy(answer, challenge, skip);
    memcpy(answer + skip, mac, mac_size);
    return skip + mac_size;
}

/* Proves it to the other side. */
static mtask_status mtask__auth_answer(const mtask__auth *auth) {
    char message[MTASK__AUTH_MESSAGE];
    char answer[MTASK__AUTH_MESSAGE];
    size_t head = strlen(mtask__auth_challenge);
    size_t size;
    size_t answer_size;
    mtask_status status = mtask__auth_receive(auth, message, &size);
    if (status != MTASK_OK)
        return status;
    if (size < head || memcmp(message, mtask__auth_challenge, head) != 0)
        return MTASK_AUTH;
    answer_size = mtask__auth_prove(auth, message + head, size - head, answer);
    if (answer_size == 0)
        return MTASK_AUTH;
    status = mtask__auth_send(auth, answer, answer_size);
    if (status == MTASK_OK)
        status = mtask__auth_receive(auth, message, &size);
    if (status != MTASK_OK)
        return status;
    return size == strlen(mtask__auth_welcome) && memcmp(message, mtask__auth_welcome, size) == 0
               ? MTASK_OK
               : MTASK_AUTH;
}

/* Makes a connection of a socket that has just been connected; the socket is gone in any case. */
static mtask_status mtask__conn_greet(mtask_conn **conn, int fd, const mtask_conn_desc *desc,
                                      bool listens, int64_t deadline) {
    mtask__auth auth;
    mtask_status status = mtask__conn_make(conn, fd);
    if (status != MTASK_OK) {
        mtask__proc_drop(&fd);
        return status;
    }
    if (desc->key != NULL) {
        auth.desc = desc;
        auth.conn = *conn;
        auth.deadline = deadline;
        mtask_conn_set_limit(*conn, MTASK__AUTH_MESSAGE);
        status = listens ? mtask__auth_ask(&auth) : mtask__auth_answer(&auth);
        if (status == MTASK_OK)
            status = listens ? mtask__auth_answer(&auth) : mtask__auth_ask(&auth);
    }
    if (status == MTASK_OK) {
        mtask_conn_set_limit(*conn, desc->limit);
        return MTASK_OK;
    }
    (void)mtask_conn_close(*conn);
    *conn = NULL;
    return status;
}

/* ---- >>conn-listener ---- */

struct mtask_conn_listener {
    int fd;
    pid_t owner;
    mtask_conn_desc desc;
    char *key;
};

static mtask_conn_desc mtask__conn_usual; /* all zero */

static bool mtask__conn_desc_fits(const mtask_conn_desc *desc) {
    return desc->patience >= 0 && (desc->key == NULL ? desc->key_size == 0 : desc->hmac != NULL);
}

MTASK_API mtask_status mtask_conn_listener_open(mtask_conn_listener **listener, const char *address,
                                                const mtask_conn_desc *desc) {
    mtask_conn_listener *made;
    mtask_status status;
    if (listener == NULL)
        return MTASK_INVALID;
    *listener = NULL;
    desc = desc != NULL ? desc : &mtask__conn_usual;
    if (!mtask__conn_desc_fits(desc))
        return MTASK_INVALID;
    made = (mtask_conn_listener *)MTASK_MALLOC(sizeof *made + desc->key_size + 1);
    if (made == NULL)
        return MTASK_NOMEM;
    memset(made, 0, sizeof *made);
    made->desc = *desc;
    made->owner = getpid();
    made->key = (char *)(made + 1);
    if (desc->key != NULL) {
        memcpy(made->key, desc->key, desc->key_size);
        made->desc.key = made->key;
    }
    status = mtask_tcp_listen(&made->fd, address, &desc->listen);
    if (status == MTASK_OK)
        *listener = made;
    else
        MTASK_FREE(made);
    return status;
}

MTASK_API mtask_status mtask_conn_listener_accept(mtask_conn_listener *listener, mtask_conn **conn,
                                                  int64_t timeout) {
    int64_t deadline;
    int64_t patience;
    int fd;
    mtask_status status;
    if (conn == NULL)
        return MTASK_INVALID;
    *conn = NULL;
    status = listener == NULL ? MTASK_INVALID : mtask__deadline(timeout, &deadline);
    if (status != MTASK_OK)
        return status;
    patience = listener->desc.patience == 0 ? MTASK_SEC(5) : listener->desc.patience;
    status = mtask_tcp_accept(listener->fd, &fd, NULL, mtask_until(deadline));
    if (status != MTASK_OK)
        return status;
    status = mtask__conn_greet(conn, fd, &listener->desc, true, mtask_deadline(patience));
    return status == MTASK_TIMEOUT ? MTASK_AUTH : status;
}

MTASK_API mtask_status mtask_conn_listener_address(const mtask_conn_listener *listener,
                                                   mtask_address *address) {
    return listener == NULL || address == NULL ? MTASK_INVALID
                                               : mtask_io_local(listener->fd, address);
}

MTASK_API int mtask_conn_listener_fd(const mtask_conn_listener *listener) {
    return listener == NULL ? -1 : listener->fd;
}

MTASK_API void mtask_conn_listener_close(mtask_conn_listener *listener) {
    mtask_address address;
    if (listener == NULL)
        return;
    if (listener->owner == getpid() && mtask_io_local(listener->fd, &address) == MTASK_OK &&
        address.as.any.sa_family == AF_UNIX && address.as.path.sun_path[0] != 0)
        (void)unlink(address.as.path.sun_path);
    mtask__proc_drop(&listener->fd);
    memset(listener->key, 0, listener->desc.key_size);
    MTASK_FREE(listener);
}

MTASK_API mtask_status mtask_conn_connect(mtask_conn **conn, const char *address,
                                          const mtask_conn_desc *desc, int64_t timeout) {
    int64_t deadline;
    int fd;
    mtask_status status;
    if (conn == NULL)
        return MTASK_INVALID;
    *conn = NULL;
    desc = desc != NULL ? desc : &mtask__conn_usual;
    status = address == NULL || !mtask__conn_desc_fits(desc) ? MTASK_INVALID
                                                             : mtask__deadline(timeout, &deadline);
    if (status == MTASK_OK)
        status = mtask_tcp_connect(&fd, address, mtask_until(deadline));
    return status == MTASK_OK ? mtask__conn_greet(conn, fd, desc, false, deadline) : status;
}

/* ---- >>proc-state ---- */

struct mtask_proc {
    mtask__child child;
    struct mtask_proc *next; /* in the list of the process, or of those let go of */
    struct mtask_proc *prev;
    int ticket; /* see below */
    mtask_word references;
    bool daemon;
    bool call;
    char name[MTASK_NAME_SIZE];
};

/* What the process keeps. */
typedef struct mtask__proc_state {
    mtask_mutex lock;     /* guards what follows */
    mtask_word watched;   /* 1: forks have been seen to */
    bool started;         /* it was started by mtask, which set the rest of `self` */
    bool spawnable;       /* mtask_proc_init has been called */
    mtask_proc_info self; /* but for the numbers */
    pid_t parent;         /* who started it */
    pid_t forking;        /* who forks just now */
    int parent_life;      /* readable when that has ended; valid if `started` */
    int life[2];          /* a pipe that nobody writes to: the writing end goes with this process;
                              valid if `alive` */
    bool alive;
    mtask_proc_method method;
    unsigned names;      /* processes named so far, */
    unsigned pool_names; /* and pools */
    const char *program; /* argv[0] */
    mtask_proc *children;
    mtask_proc *released; /* handles that nobody has any more */
    mtask_word spawning;  /* spawns in progress, during which nobody forks: see >>cmd */
    mtask_cmd *cmds;
    mtask_mutex server_lock; /* held during a talk with the fork server; guards: */
    mtask__child server;
    int server_socket; /* valid if `serving` */
    bool serving;
    void (*preload)(void); /* what the server runs first */
    mtask_mutex name_lock; /* held while names of shared memory change */
    struct mtask_procpool *pools;
} mtask__proc_state;

# define mtask__proc_process MTASK__VERSIONED(mtask__proc_process)
MTASK__ONE mtask__proc_state mtask__proc_process;
MTASK__MERGED(mtask__proc_process)

static void mtask__procpool_fork_prepare(void);
static void mtask__procpool_fork_parent(void);
static void mtask__procpool_fork_child(void);

static void mtask__proc_fork_prepare(void) {
    mtask_word spawning;
    mtask__lock(&mtask__proc_process.server_lock);
    mtask__lock(&mtask__proc_process.name_lock);
    mtask__lock(&mtask__proc_process.lock);
    while ((spawning = mtask_word_load(&mtask__proc_process.spawning)) != 0) /* none begins */
        (void)mtask__wait(&mtask__proc_process.spawning, spawning, MTASK_FOREVER,
                          MTASK__NOPARK | MTASK__NOCANCEL);
    mtask__proc_process.forking = getpid();
    mtask__procpool_fork_prepare();
}

static void mtask__proc_fork_parent(void) {
    mtask__procpool_fork_parent();
    mtask__unlock(&mtask__proc_process.lock);
    mtask__unlock(&mtask__proc_process.name_lock);
    mtask__unlock(&mtask__proc_process.server_lock);
}

/* In the child: its parent's children are not its own, and its parent's end must be seen by all,
   also while this one lives. */
static void mtask__proc_fork_child(void) {
    mtask__proc_state *state = &mtask__proc_process;
    mtask__procpool_fork_child();
    state->watched = 1; /* the handlers are there, though it may just have been about to be said */
    if (state->started)
        mtask__proc_shut(&state->parent_life);
    if (state->alive) {
        mtask__proc_shut(&state->life[1]);
        state->parent_life = state->life[0];
    }
    state->alive = false;
    if (state->serving)
        mtask__proc_shut(&state->server_socket);
    state->serving = false;
    state->started = false;
    state->parent = state->forking;
    state->spawning = 0;
    state->children = state->released = NULL; /* the parent's; whoever has a handle may close it */
    memset(&state->lock, 0, sizeof state->lock);
    memset(&state->server_lock, 0, sizeof state->server_lock);
    memset(&state->name_lock, 0, sizeof state->name_lock);
}

/* The process's state, which forks know of. */
static mtask__proc_state *mtask__proc_me(void) {
    mtask__proc_state *state = &mtask__proc_process;
    if (mtask__load(&state->watched, ACQUIRE) == 0) { /* pairs with the store in mtask__at_fork */
        mtask__io_init(); /* first: a spawn, for which a fork waits, takes locks of mtask_io.h's */
        mtask__at_fork(&state->watched, mtask__proc_fork_prepare, mtask__proc_fork_parent,
                       mtask__proc_fork_child);
    }
    return state;
}

static void mtask__spawn_begin(void) {
    mtask__proc_state *state = mtask__proc_me();
    mtask__lock(&state->lock);
    (void)mtask_word_add(&state->spawning, 1);
    mtask__unlock(&state->lock);
}

static void mtask__spawn_end(void) {
    mtask__proc_state *state = &mtask__proc_process;
    if (mtask_word_add(&state->spawning, (mtask_word)-1) == 1)
        mtask__wake(&state->spawning, INT_MAX, 0);
}

static void mtask__cmd_link(mtask_cmd *cmd) {
    mtask__proc_state *state = mtask__proc_me();
    mtask__lock(&state->lock);
    cmd->next = state->cmds;
    if (cmd->next != NULL)
        cmd->next->prev = cmd;
    state->cmds = cmd;
    mtask__unlock(&state->lock);
}

static void mtask__cmd_unlink(mtask_cmd *cmd) {
    mtask__proc_state *state = mtask__proc_me();
    mtask__lock(&state->lock);
    if (cmd->prev != NULL)
        cmd->prev->next = cmd->next;
    else if (state->cmds == cmd)
        state->cmds = cmd->next;
    if (cmd->next != NULL)
        cmd->next->prev = cmd->prev;
    mtask__unlock(&state->lock);
}

/* In a process that mtask has forked. */
static void mtask__cmds_leave(void) {
    mtask__proc_state *state = &mtask__proc_process;
    for (mtask_cmd *cmd = state->cmds; cmd != NULL; cmd = cmd->next)
        for (int i = 0; i < 3; i++)
            mtask__proc_drop(&cmd->pipes[i]);
    state->cmds = NULL;
}

/* The pipe by which children see the end of this process. Its reading end; -1: errno. */
static int mtask__proc_life(mtask__proc_state *state) {
    int life = -1;
    mtask__lock(&state->lock);
    if (!state->alive)
        state->alive = mtask__os_proc_pipe(state->life);
    if (state->alive)
        life = state->life[0];
    mtask__unlock(&state->lock);
    return life;
}

MTASK_API mtask_status mtask_proc_set_method(mtask_proc_method method) {
    mtask__proc_state *state = mtask__proc_me();
    if (method != MTASK_PROC_FORK && method != MTASK_PROC_SPAWN && method != MTASK_PROC_FORKSERVER)
        return MTASK_INVALID;
    mtask__lock(&state->lock);
    state->method = method;
    mtask__unlock(&state->lock);
    return MTASK_OK;
}

MTASK_API mtask_proc_method mtask_proc_get_method(void) {
    mtask__proc_state *state = mtask__proc_me();
    mtask_proc_method method;
    mtask__lock(&state->lock);
    method = state->method == MTASK_PROC_DEFAULT ? MTASK_PROC_FORK : state->method;
    mtask__unlock(&state->lock);
    return method;
}

static void mtask__name_copy(char *to, const char *from) {
    size_t length = strlen(from);
    if (length >= MTASK_NAME_SIZE)
        length = MTASK_NAME_SIZE - 1;
    memcpy(to, from, length);
    to[length] = 0;
}

MTASK_API mtask_proc_info mtask_proc_current(void) {
    mtask__proc_state *state = mtask__proc_me();
    mtask_proc_info info;
    mtask__lock(&state->lock);
    info = state->self;
    info.started = state->started;
    info.parent = state->started ? state->parent : getppid();
    mtask__unlock(&state->lock);
    info.pid = getpid();
    if (!info.started) {
        info.daemon = false;
        mtask__name_copy(info.name, "MainProcess");
    }
    return info;
}

MTASK_API mtask_status mtask_proc_parent_sentinel(int *fd) {
    mtask__proc_state *state = mtask__proc_me();
    if (fd == NULL)
        return MTASK_INVALID;
    mtask__lock(&state->lock);
    *fd = state->started ? state->parent_life : -1;
    mtask__unlock(&state->lock);
    return *fd < 0 ? MTASK_NOT_FOUND : MTASK_OK;
}

/* ---- >>module: functions are found again in another process ---- */

/* A function of a program or a library: by what identifies the module, and where in it it is. */
typedef struct mtask__place {
    uint64_t module;
    uint64_t offset;
} mtask__place;

typedef struct mtask__module_search {
    mtask__place place;
    uintptr_t address; /* of the function; 0: look for the module */
    bool found;
} mtask__module_search;

static uint64_t mtask__hash(uint64_t hash, const void *data, size_t size) {
    const unsigned char *bytes = (const unsigned char *)data; /* FNV-1a */
    for (size_t i = 0; i < size; i++)
        hash = (hash ^ bytes[i]) * 0x100000001b3u;
    return hash;
}

/* The build-id that the linker gave it, if it did. */
static uint64_t mtask__module_notes(uint64_t hash, const char *notes, size_t size) {
    while (size >= sizeof(ElfW(Nhdr))) {
        const ElfW(Nhdr) *note = (const ElfW(Nhdr) *)(const void *)notes;
        size_t name = ((size_t)note->n_namesz + 3) / 4 * 4;
        size_t whole = sizeof *note + name + ((size_t)note->n_descsz + 3) / 4 * 4;
        if (whole > size)
            break;
        if (note->n_type == NT_GNU_BUILD_ID)
            hash = mtask__hash(hash, notes + sizeof *note + name, note->n_descsz);
        notes += whole;
        size -= whole;
    }
    return hash;
}

/* What identifies a module: how its parts lie, and its build-id. */
static uint64_t mtask__module_hash(const struct dl_phdr_info *info) {
    uint64_t hash = 0xcbf29ce484222325u;
    for (size_t i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *part = &info->dlpi_phdr[i];
        if (part->p_type == PT_LOAD) {
            uint64_t shape[3] = {part->p_vaddr, part->p_memsz, part->p_filesz};
            hash = mtask__hash(hash, shape, sizeof shape);
        } else if (part->p_type == PT_NOTE) {
            hash = mtask__module_notes(
                hash, (const char *)(uintptr_t)(info->dlpi_addr + part->p_vaddr), part->p_memsz);
        }
    }
    return hash;
}

/* Whether an address lies in a module. */
static bool mtask__module_holds(const struct dl_phdr_info *info, uintptr_t address) {
    for (size_t i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *part = &info->dlpi_phdr[i];
        uintptr_t begin = (uintptr_t)(info->dlpi_addr + part->p_vaddr);
        if (part->p_type == PT_LOAD && address >= begin && address - begin < part->p_memsz)
            return true;
    }
    return false;
}

static int mtask__module_look(struct dl_phdr_info *info, size_t size, void *arg) {
    mtask__module_search *search = (mtask__module_search *)arg;
    (void)size;
    if (search->address != 0) {
        if (!mtask__module_holds(info, search->address))
            return 0;
        search->place.module = mtask__module_hash(info);
        search->place.offset = search->address - (uintptr_t)info->dlpi_addr;
    } else {
        uintptr_t address = (uintptr_t)(info->dlpi_addr + search->place.offset);
        if (mtask__module_hash(info) != search->place.module || !mtask__module_holds(info, address))
            return 0;
        search->address = address;
    }
    search->found = true;
    return 1;
}

/* Where a function is; false: in no module. */
static bool mtask__place_of(uintptr_t function, mtask__place *place) {
    mtask__module_search search;
    memset(&search, 0, sizeof search);
    search.address = function;
    if (function != 0)
        (void)dl_iterate_phdr(mtask__module_look, &search);
    *place = search.place;
    return search.found;
}

/* The function of that place; 0: its module is not loaded. */
static uintptr_t mtask__place_find(const mtask__place *place) {
    mtask__module_search search;
    memset(&search, 0, sizeof search);
    search.place = *place;
    (void)dl_iterate_phdr(mtask__module_look, &search);
    return search.found ? search.address : 0;
}

/* ---- >>ticket: what a process has to do, and how it ended ---- */

/* A shared file that the starter and the process have: this, then what it is given, then its
   result. The process writes its outcome and result, then says that they stand; so if it is killed
   before, there is none. */
enum { MTASK__TICKET_FN, MTASK__TICKET_CALL, MTASK__TICKET_SERVER };

# define MTASK__TICKET_MAGIC 0x6d74746b

typedef struct mtask__ticket {
    uint32_t magic;
    uint32_t kind;
    mtask__place place;
    uint64_t in_size;
    uint32_t cpu_count;
    int32_t nice;
    int32_t parent;
    int32_t life; /* the number of the parent's pipe in the new process */
    uint32_t daemon;
    int32_t socket; /* of a fork server */
    char name[MTASK_NAME_SIZE];
} mtask__ticket;

typedef struct mtask__verdict {
    uint32_t stands; /* written last */
    uint32_t status;
    uint64_t value;
    uint64_t out_at;
    uint64_t out_size;
    char text[MTASK_TEXT_SIZE];
} mtask__verdict;

# define MTASK__VERDICT_GOOD 255 /* size of the file that says it all: it has returned NULL */
# define MTASK__VERDICT_AT   256 /* where in the file it is else, */
# define MTASK__TICKET_DATA  512 /* and where what is given begins */

/* Says how a task has ended. */
static bool mtask__verdict_write(int ticket, const mtask_outcome *outcome, const mtask_buf *out,
                                 uint64_t out_at) {
    mtask__verdict verdict;
    uint32_t stands = 1;
    if (out == NULL && outcome->status == MTASK_OK && outcome->value == NULL)
        return mtask__shm_resize(ticket, MTASK__VERDICT_GOOD) == MTASK_OK;
    memset(&verdict, 0, sizeof verdict);
    verdict.status = (uint32_t)outcome->status;
    verdict.value = (uint64_t)(uintptr_t)outcome->value;
    memcpy(verdict.text, outcome->text, sizeof verdict.text);
    if (out != NULL && outcome->status == MTASK_OK) {
        verdict.out_at = out_at;
        verdict.out_size = out->size;
        if (!mtask__proc_pwrite(ticket, out->data, out->size, (off_t)out_at))
            return false;
    }
    return mtask__proc_pwrite(ticket, &verdict, sizeof verdict, MTASK__VERDICT_AT) &&
           mtask__proc_pwrite(ticket, &stands, sizeof stands, MTASK__VERDICT_AT);
}

/* Whether the process left one. */
static bool mtask__verdict_read(int ticket, mtask__verdict *verdict) {
    struct stat info;
    if (fstat(ticket, &info) != 0)
        return false;
    if (info.st_size == MTASK__VERDICT_GOOD) {
        memset(verdict, 0, sizeof *verdict);
        return true;
    }
    if (info.st_size < (off_t)(MTASK__VERDICT_AT + sizeof *verdict))
        return false;
    return mtask__proc_pread(ticket, verdict, sizeof *verdict, MTASK__VERDICT_AT) &&
           verdict->stands == 1;
}

/* ---- >>proc-run: in the new process ---- */

/* What it runs. */
typedef struct mtask__work_order {
    mtask_fn fn;
    void *arg;
    mtask_bytes_fn call;
    const void *in;
    size_t in_size;
    mtask_buf out;
} mtask__work_order;

/* Runs a function over bytes as (part of) the current task: what it returns, and whether it called
   mtask_fail, make its status. */
static void *mtask__order_run(void *arg) {
    mtask__work_order *order = (mtask__work_order *)arg;
    mtask_outcome failure;
    mtask_status status;
    if (order->fn != NULL)
        return order->fn(order->arg);
    mtask__task_current()->fail_status = MTASK_OK; /* of what ran before */
    status = order->call(order->in, order->in_size, &order->out);
    if (mtask_failure(&failure) == MTASK_OK)
        return status == MTASK_OK ? NULL : mtask_fail(status, NULL);
    if (status != MTASK_OK && status != failure.status)
        return mtask_fail(status, "%s", failure.text);
    return MTASK__FAILURE;
}

static void mtask__proc_set_nice(int nicer, mtask_outcome *outcome) {
    int before = errno;
    errno = 0;
    if (nicer != 0 && nice(nicer) == -1 && errno != 0) {
        outcome->status = MTASK_SYSTEM;
        (void)snprintf(outcome->text, sizeof outcome->text, "cannot set the priority: %s",
                       strerror(errno));
    }
    errno = before;
}

static void mtask__proc_set_cpus(const unsigned *cpus, size_t count, mtask_outcome *outcome) {
    mtask_status status = count == 0 ? MTASK_OK : mtask__os_proc_affinity(cpus, count);
    if (status == MTASK_OK)
        return;
    outcome->status = status;
    (void)snprintf(outcome->text, sizeof outcome->text, "cannot use these CPUs: %s",
                   strerror(errno));
}

/* Says who this process is, and has it end with its parent if it is a daemon. */
static void mtask__proc_settle(const mtask__ticket *ticket, mtask_outcome *outcome) {
    mtask__proc_state *state = mtask__proc_me();
    mtask__lock(&state->lock);
    state->started = true;
    state->self.daemon = ticket->daemon != 0;
    memcpy(state->self.name, ticket->name, sizeof state->self.name);
    state->parent = (pid_t)ticket->parent;
    state->parent_life = ticket->life;
    mtask__unlock(&state->lock);
    if (ticket->daemon != 0 && !mtask__os_die_with(ticket->life)) {
        outcome->status = MTASK_SYSTEM;
        (void)snprintf(outcome->text, sizeof outcome->text, "cannot watch the parent: %s",
                       strerror(errno));
    }
}

/* _exit, found by the linker when the program was loaded: otherwise each child would have it looked
   up, since only children call it. */
static void (*volatile mtask__proc_exit)(int code) = _exit;

/* Ends the process: as Python does, without atexit. */
static __attribute__((noreturn)) void mtask__proc_leave(int code) {
    while (mtask_thread_join_all(MTASK_FOREVER) == MTASK_CANCELED)
        continue;
    while (mtask_proc_join_all(MTASK_FOREVER) == MTASK_CANCELED)
        continue;
    (void)fflush(stdout);
    (void)fflush(stderr);
    mtask__proc_exit(code);
    for (;;)
        pause();
}

/* Where what a function is given begins, behind the numbers of CPUs: aligned to 16. */
static size_t mtask__ticket_in(const mtask__ticket *ticket) {
    return (ticket->cpu_count * sizeof(unsigned) + 15) / 16 * 16;
}

/* Runs it, and ends the process. */
static __attribute__((noreturn)) void mtask__proc_run(int file, const mtask__ticket *ticket,
                                                      const unsigned *cpus,
                                                      mtask__work_order *order) {
    mtask_outcome outcome;
    memset(&outcome, 0, sizeof outcome);
    mtask__proc_settle(ticket, &outcome);
    mtask__proc_set_cpus(cpus, ticket->cpu_count, &outcome);
    mtask__proc_set_nice((int)ticket->nice, &outcome);
    if (outcome.status == MTASK_OK)
        (void)mtask__run(mtask__order_run, order, &outcome);
    if (!mtask__verdict_write(file, &outcome, order->call != NULL ? &order->out : NULL,
                              MTASK__TICKET_DATA + mtask__ticket_in(ticket) + ticket->in_size)) {
        mtask_outcome lost;
        memset(&lost, 0, sizeof lost);
        lost.status = mtask__proc_refused();
        (void)snprintf(lost.text, sizeof lost.text, "cannot hand over the result: %s",
                       strerror(errno));
        (void)mtask__verdict_write(file, &lost, NULL, 0);
        outcome.status = lost.status;
    }
    mtask__proc_leave(outcome.status == MTASK_OK ? 0 : 1);
}

/* Ends a process that could not begin. */
static __attribute__((noreturn)) void mtask__proc_give_up(int file, mtask_status status,
                                                          const char *why) {
    mtask_outcome outcome;
    memset(&outcome, 0, sizeof outcome);
    outcome.status = status;
    (void)snprintf(outcome.text, sizeof outcome.text, "%s", why);
    (void)mtask__verdict_write(file, &outcome, NULL, 0);
    _exit(1);
}

/* In a process that was spawned, or forked by the fork server. */
static __attribute__((noreturn)) void mtask__ticket_run(int file, const mtask__ticket *ticket) {
    mtask__work_order order;
    uintptr_t function = mtask__place_find(&ticket->place);
    size_t at = mtask__ticket_in(ticket);
    size_t size = at + (size_t)ticket->in_size;
    char *data = (char *)MTASK_MALLOC(size + 1);
    if (data == NULL || !mtask__proc_pread(file, data, size, MTASK__TICKET_DATA))
        mtask__proc_give_up(file, MTASK_NOMEM, "cannot read what it was given");
    if (function == 0)
        mtask__proc_give_up(file, MTASK_NOT_FOUND,
                            "the library that holds its function is not loaded in the new process");
    memset(&order, 0, sizeof order);
    if (ticket->kind == MTASK__TICKET_FN) {
        memcpy(&order.fn, &function, sizeof order.fn);
    } else {
        memcpy(&order.call, &function, sizeof order.call);
        order.in = ticket->in_size == 0 ? NULL : data + at;
        order.in_size = (size_t)ticket->in_size;
    }
    mtask__proc_run(file, ticket, (const unsigned *)(void *)data, &order);
}

/* ---- >>proc-start: in the process that starts it ---- */

/* A start in the making. */
typedef struct mtask__start {
    const mtask_proc_desc *desc;
    mtask_proc_method method;
    mtask__ticket ticket;
    int fds[MTASK__FDS_MAX + 4]; /* what the process is to have, sorted; more are added */
    size_t fd_count;
} mtask__start;

/* Writes the ticket of a process that does not share this one's memory. */
static mtask_status mtask__ticket_write(int file, const mtask__start *start) {
    const mtask_proc_desc *desc = start->desc;
    size_t in_at = MTASK__TICKET_DATA + mtask__ticket_in(&start->ticket);
    if (!mtask__proc_pwrite(file, &start->ticket, sizeof start->ticket, 0) ||
        !mtask__proc_pwrite(file, desc->cpus, desc->cpu_count * sizeof *desc->cpus,
                            MTASK__TICKET_DATA) ||
        !mtask__proc_pwrite(file, desc->in, desc->in_size, (off_t)in_at))
        return mtask__proc_refused();
    return mtask__shm_resize(file, in_at + desc->in_size);
}

/* Whether the description can be followed. */
static mtask_status mtask__start_check(const mtask__start *start) {
    const mtask_proc_desc *desc = start->desc;
    bool shares = start->method == MTASK_PROC_FORK;
    if ((desc->fn == NULL) == (desc->call == NULL) || (desc->in == NULL && desc->in_size > 0) ||
        (desc->fn != NULL && desc->in_size > 0) || (desc->cpus == NULL) != (desc->cpu_count == 0) ||
        desc->cpu_count > 65536 || (desc->arg != NULL && (desc->fn == NULL || !shares)))
        return MTASK_INVALID;
    if (start->method != MTASK_PROC_FORK && start->method != MTASK_PROC_SPAWN &&
        start->method != MTASK_PROC_FORKSERVER)
        return MTASK_INVALID;
    if (!shares && !mtask__fds_fit(desc->fds, desc->fd_count))
        return MTASK_INVALID;
    if (!shares && !mtask__proc_process.spawnable)
        return MTASK_UNSUPPORTED;
    return desc->cpu_count > 0 ? mtask__os_proc_affinity(NULL, 0) : MTASK_OK;
}

/* The place of the function, if it has to be found again. */
static mtask_status mtask__start_place(mtask__start *start) {
    uintptr_t function = 0;
    if (start->method == MTASK_PROC_FORK)
        return MTASK_OK;
    if (start->desc->fn != NULL)
        memcpy(&function, &start->desc->fn, sizeof function);
    else
        memcpy(&function, &start->desc->call, sizeof function);
    return mtask__place_of(function, &start->ticket.place) ? MTASK_OK : MTASK_NOT_FOUND;
}

static mtask_status mtask__start_init(mtask__start *start, const mtask_proc_desc *desc) {
    mtask__proc_state *state = mtask__proc_me();
    mtask_status status;
    memset(start, 0, sizeof *start);
    start->desc = desc;
    start->method = desc->method == MTASK_PROC_DEFAULT ? mtask_proc_get_method() : desc->method;
    status = mtask__start_check(start);
    if (status == MTASK_OK)
        status = mtask__start_place(start);
    if (status != MTASK_OK)
        return status;
    start->ticket.magic = MTASK__TICKET_MAGIC;
    start->ticket.kind = desc->fn != NULL ? MTASK__TICKET_FN : MTASK__TICKET_CALL;
    start->ticket.in_size = desc->in_size;
    start->ticket.cpu_count = (uint32_t)desc->cpu_count;
    start->ticket.nice = desc->nice;
    start->ticket.parent = getpid();
    start->ticket.daemon = desc->daemon;
    start->ticket.life = mtask__proc_life(state);
    if (start->ticket.life < 0)
        return MTASK_SYSTEM;
    if (desc->fd_count > 0 && start->method != MTASK_PROC_FORK)
        memcpy(start->fds, desc->fds, desc->fd_count * sizeof *desc->fds);
    start->fd_count = start->method != MTASK_PROC_FORK ? desc->fd_count : 0;
    return MTASK_OK;
}

/* "Process-1", or as it was asked for. */
static void mtask__start_name(mtask__start *start) {
    mtask__proc_state *state = mtask__proc_me();
    unsigned number;
    if (start->desc->name != NULL) {
        mtask__name_copy(start->ticket.name, start->desc->name);
        return;
    }
    mtask__lock(&state->lock);
    number = ++state->names;
    mtask__unlock(&state->lock);
    (void)snprintf(start->ticket.name, sizeof start->ticket.name, "Process-%u", number);
}

/* A ticket: not among the standard descriptors, which a spawn may overwrite. */
static int mtask__ticket_open(void) {
    int file = mtask__os_shm_open("");
    if (file >= 0 && !mtask__fd_lift(&file))
        return -1;
    if (file >= 0 && mtask__shm_resize(file, MTASK__VERDICT_AT) != MTASK_OK)
        mtask__proc_shut(&file);
    return file;
}

/* In a forked process: what a function is given, aligned to 16, copied if need be. */
static const void *mtask__align_in(int file, const void *in, size_t size) {
    void *copy;
    if (size == 0 || (uintptr_t)in % 16 == 0)
        return size == 0 ? NULL : in;
    copy = MTASK_MALLOC(size);
    if (copy == NULL)
        mtask__proc_give_up(file, MTASK_NOMEM, "no memory for what it was given");
    memcpy(copy, in, size);
    return copy;
}

static mtask_status mtask__start_fork(const mtask__start *start, int file, mtask__child *child) {
    const mtask_proc_desc *desc = start->desc;
    mtask__work_order order;
    pid_t pid;
    mtask__fork_begin();
    pid = fork();
    if (pid != 0)
        mtask__fork_end();
    if (pid < 0)
        return mtask__proc_refused();
    if (pid > 0) {
        mtask__child_init(child, pid);
        return MTASK_OK;
    }
    mtask__cmds_leave();
    memset(&order, 0, sizeof order);
    order.fn = desc->fn;
    order.arg = desc->arg;
    order.call = desc->call;
    order.in = mtask__align_in(file, desc->in, desc->in_size);
    order.in_size = desc->in_size;
    mtask__proc_run(file, &start->ticket, desc->cpus, &order);
}

/* Starts this program anew, with that ticket. */
static mtask_status mtask__start_program(mtask__start *start, int file, mtask__child *child) {
    char number[16];
    char program[] = "mtask";
    const mtask__proc_state *state = mtask__proc_me();
    char mark[] = "--mtask-proc";
    char *argv[4];
    mtask__launch launch;
    pid_t pid = 0;
    memset(&launch, 0, sizeof launch);
    launch.stdio[0] = launch.stdio[1] = launch.stdio[2] = -1;
    (void)snprintf(number, sizeof number, "%d", file);
    argv[0] = state->program != NULL ? (char *)(uintptr_t)state->program : program;
    argv[1] = mark;
    argv[2] = number;
    argv[3] = NULL;
    launch.path = "/proc/self/exe";
    launch.argv = argv;
    launch.env = environ;
    start->fds[start->fd_count++] = file;
    start->fds[start->fd_count++] = start->ticket.life;
    qsort(start->fds, start->fd_count, sizeof *start->fds, mtask__fds_compare);
    launch.fds = start->fds;
    launch.fd_count = start->fd_count;
    errno = mtask__launch_start(&launch, &pid);
    if (errno != 0)
        return mtask__proc_refused();
    mtask__child_init(child, pid);
    return MTASK_OK;
}

static mtask_status mtask__forker_request(mtask__start *start, int file, mtask__child *child);

/* Starts a process as described; *file is its ticket, which stays the caller's. */
static mtask_status mtask__start_run(mtask__start *start, int *file, mtask__child *child) {
    mtask_status status = MTASK_OK;
    *file = mtask__ticket_open();
    if (*file < 0)
        return mtask__proc_refused();
    (void)fflush(stdout); /* or both processes would print what is in their buffers */
    (void)fflush(stderr);
    if (start->method == MTASK_PROC_FORK)
        status = mtask__start_fork(start, *file, child);
    else
        status = mtask__ticket_write(*file, start);
    if (status == MTASK_OK && start->method == MTASK_PROC_SPAWN)
        status = mtask__start_program(start, *file, child);
    if (status == MTASK_OK && start->method == MTASK_PROC_FORKSERVER)
        status = mtask__forker_request(start, *file, child);
    if (status != MTASK_OK)
        mtask__proc_shut(file);
    return status;
}

/* ---- >>forkserver ---- */

/* The server waits for requests on a socket; each comes with the ticket, a socket on which it tells
   the starter of the process's number (with its pidfd) and, at its end, of its code, and the
   descriptors that the process is to have. It ends when nobody can ask it any more. */

# define MTASK__SERVER_FDS (MTASK__FDS_MAX + 2)

typedef struct mtask__forker_ask {
    uint32_t count;                  /* descriptors beside ticket and socket */
    int32_t numbers[MTASK__FDS_MAX]; /* that they are to have */
} mtask__forker_ask;

/* A child of the server's. */
typedef struct mtask__forker_child {
    struct mtask__forker_child *next;
    pid_t pid;
    int socket;
} mtask__forker_child;

typedef union mtask__forker_control {
    struct cmsghdr align;
    char bytes[CMSG_SPACE(MTASK__SERVER_FDS * sizeof(int))];
} mtask__forker_control;

/* Sends one packet with descriptors, at once. */
static bool mtask__packet_send(int socket, const void *data, size_t size, const int *fds,
                               size_t count) {
    mtask__forker_control control;
    struct msghdr message;
    struct iovec part;
    ssize_t sent;
    memset(&message, 0, sizeof message);
    part.iov_base = (void *)(uintptr_t)data;
    part.iov_len = size;
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    if (count > 0) {
        memset(&control, 0, sizeof control);
        mtask__message_carry(&message, control.bytes, fds, count);
    }
    do
        sent = sendmsg(socket, &message, MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    return sent == (ssize_t)size;
}

/* Receives one, waiting for it; at most `*count` descriptors. Its size; 0: the end; -1: errno. */
static ssize_t mtask__packet_receive(int socket, void *data, size_t size, int *fds, size_t *count) {
    mtask__forker_control control;
    struct msghdr message;
    struct iovec part;
    ssize_t got;
    struct cmsghdr *header;
    memset(&message, 0, sizeof message);
    part.iov_base = data;
    part.iov_len = size;
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control.bytes;
    message.msg_controllen = CMSG_SPACE(*count * sizeof(int));
    *count = 0;
    do
        got = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
    while (got < 0 && errno == EINTR);
    header = got < 0 ? NULL : CMSG_FIRSTHDR(&message);
    if (header != NULL && header->cmsg_type == SCM_RIGHTS) {
        *count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        memcpy(fds, CMSG_DATA(header), *count * sizeof(int));
    }
    return got;
}

/* Gives the received descriptors their numbers. First all are moved out of the way. */
static bool mtask__forker_place(int *fds, const int32_t *numbers, size_t count) {
    int beyond = 3;
    for (size_t i = 0; i < count; i++)
        beyond = numbers[i] >= beyond ? numbers[i] + 1 : beyond;
    for (size_t i = 0; i < count; i++) {
        int moved = fcntl(fds[i], F_DUPFD_CLOEXEC, beyond);
        if (moved < 0)
            return false;
        close(fds[i]);
        fds[i] = moved;
    }
    for (size_t i = 0; i < count; i++) {
        if (dup2(fds[i], numbers[i]) < 0)
            return false;
        close(fds[i]);
    }
    return true;
}

/* Of the server. */
typedef struct mtask__forker_own {
    int socket;
    sigset_t blocked;           /* what it began with */
    struct sigaction interrupt; /* what SIGINT and SIGCHLD did */
    struct sigaction child;
    mtask__forker_child *children;
} mtask__forker_own;

/* The new process tells its starter of itself: either that knows of it, or it does not begin. */
static void mtask__forker_tell(int socket) {
    mtask__remote_news news;
    int process = mtask__os_proc_fd(getpid());
    news.kind = 1;
    news.value = (int32_t)getpid();
    if (!mtask__packet_send(socket, &news, sizeof news, &process, process < 0 ? 0 : 1))
        _exit(1);
    mtask__proc_shut(&process);
}

/* The new process: what is the server's goes, the rest is as in one that was spawned. */
static __attribute__((noreturn)) void mtask__forker_child_run(mtask__forker_own *own, int *fds,
                                                              size_t count,
                                                              const mtask__forker_ask *ask) {
    mtask__ticket ticket;
    int keep[2];
    int beyond = 3;
    for (uint32_t i = 0; i < ask->count; i++)
        beyond = ask->numbers[i] >= beyond ? ask->numbers[i] + 1 : beyond;
    for (const mtask__forker_child *child = own->children; child != NULL; child = child->next)
        close(child->socket);
    close(own->socket);
    mtask__forker_tell(fds[1]);
    close(fds[1]);
    (void)sigaction(SIGINT, &own->interrupt, NULL);
    (void)sigaction(SIGCHLD, &own->child, NULL);
    (void)sigprocmask(SIG_SETMASK, &own->blocked, NULL);
    if (!mtask__proc_pread(fds[0], &ticket, sizeof ticket, 0))
        _exit(1);
    keep[0] = fcntl(fds[0], F_DUPFD_CLOEXEC, beyond);
    keep[1] = fcntl(mtask__proc_process.parent_life, F_DUPFD_CLOEXEC, beyond);
    if (keep[0] < 0 || keep[1] < 0)
        mtask__proc_give_up(fds[0], MTASK_SYSTEM, "too many descriptors");
    close(fds[0]);
    close(mtask__proc_process.parent_life);
    ticket.life = keep[1];
    if (!mtask__forker_place(fds + 2, ask->numbers, count - 2))
        mtask__proc_give_up(keep[0], MTASK_SYSTEM, "cannot place its descriptors");
    mtask__ticket_run(keep[0], &ticket);
}

/* Forks one. */
static void mtask__forker_fork(mtask__forker_own *own, int *fds, size_t count,
                               const mtask__forker_ask *ask) {
    mtask__forker_child *entry = (mtask__forker_child *)MTASK_MALLOC(sizeof *entry);
    mtask__remote_news news;
    int life = mtask__proc_process.parent_life;
    pid_t pid;
    errno = ENOMEM;
    pid = entry == NULL ? -1 : fork();
    if (pid == 0) {
        mtask__proc_process.parent_life = life; /* the parent is who asked for it */
        mtask__forker_child_run(own, fds, count, ask);
    }
    if (pid < 0) {
        news.kind = 3;
        news.value = errno;
        (void)mtask__packet_send(fds[1], &news, sizeof news, NULL, 0);
        MTASK_FREE(entry);
        return;
    }
    entry->pid = pid;
    entry->socket = fds[1];
    entry->next = own->children;
    own->children = entry;
    fds[1] = -1;
}

/* A request; false: nobody can ask any more. */
static bool mtask__forker_serve(mtask__forker_own *own) {
    mtask__forker_ask ask;
    int fds[MTASK__SERVER_FDS];
    size_t count = MTASK__SERVER_FDS;
    ssize_t got = mtask__packet_receive(own->socket, &ask, sizeof ask, fds, &count);
    if (got <= 0)
        return got < 0 && (errno == EAGAIN || errno == EMFILE);
    if (got == (ssize_t)sizeof ask && count == ask.count + 2)
        mtask__forker_fork(own, fds, count, &ask);
    for (size_t i = 0; i < count; i++)
        mtask__proc_shut(&fds[i]);
    return true;
}

/* Tells of those that have ended. */
static void mtask__forker_reap(mtask__forker_own *own) {
    mtask__forker_child **link = &own->children;
    while (*link != NULL) {
        mtask__forker_child *child = *link;
        mtask__remote_news news;
        int status;
        if (waitpid(child->pid, &status, WNOHANG) != child->pid) {
            link = &child->next;
            continue;
        }
        news.kind = 2;
        news.value = WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
        (void)mtask__packet_send(child->socket, &news, sizeof news, NULL, 0);
        close(child->socket);
        *link = child->next;
        MTASK_FREE(child);
    }
}

static void mtask__forker_wake(int number) {
    (void)number; /* that it came is enough: it ends ppoll */
}

/* The server. Signals of its children come only while it waits. */
static __attribute__((noreturn)) void mtask__forker_main(int socket) {
    mtask__forker_own own;
    struct sigaction action;
    struct pollfd polled;
    sigset_t set;
    mtask__proc_process.started = false; /* its copies keep the end of its parent's pipe open */
    memset(&own, 0, sizeof own);
    own.socket = socket;
    memset(&action, 0, sizeof action);
    action.sa_handler = SIG_IGN;
    (void)sigaction(SIGINT, &action, &own.interrupt);
    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGCHLD);
    (void)sigprocmask(SIG_BLOCK, &set, &own.blocked);
    action.sa_handler = mtask__forker_wake;
    (void)sigaction(SIGCHLD, &action, &own.child);
    polled.fd = socket;
    polled.events = POLLIN;
    for (;;) {
        int ready = ppoll(&polled, 1, NULL, &own.blocked);
        mtask__forker_reap(&own);
        if (ready > 0 && !mtask__forker_serve(&own))
            _exit(0);
    }
}

/* In a server just spawned: runs what was to be run first. */
static __attribute__((noreturn)) void mtask__forker_enter(const mtask__ticket *ticket) {
    uintptr_t address = ticket->place.module == 0 ? 0 : mtask__place_find(&ticket->place);
    mtask__proc_state *state = mtask__proc_me();
    void (*preload)(void) = NULL;
    mtask__lock(&state->lock);
    state->started = true;
    state->parent = (pid_t)ticket->parent;
    state->parent_life = ticket->life;
    mtask__name_copy(state->self.name, "ForkServer");
    mtask__unlock(&state->lock);
    memcpy(&preload, &address, sizeof preload);
    if (preload != NULL)
        preload();
    mtask__forker_main(ticket->socket);
}

/* Spawns it. With the server's lock. */
static mtask_status mtask__forker_spawn(mtask__proc_state *state) {
    mtask_proc_desc desc;
    mtask__start start;
    uintptr_t address = 0;
    int ends[2];
    int file;
    mtask_status status;
    memset(&desc, 0, sizeof desc);
    memset(&start, 0, sizeof start);
    start.desc = &desc;
    start.ticket.magic = MTASK__TICKET_MAGIC;
    start.ticket.kind = MTASK__TICKET_SERVER;
    start.ticket.parent = getpid();
    start.ticket.life = mtask__proc_life(state);
    memcpy(&address, &state->preload, sizeof address);
    if (address != 0 && !mtask__place_of(address, &start.ticket.place))
        return MTASK_NOT_FOUND;
    if (start.ticket.life < 0 || !mtask__os_proc_pair(ends, true))
        return MTASK_SYSTEM;
    file = mtask__ticket_open();
    status = file >= 0 && mtask__fd_lift(&ends[0]) && mtask__fd_lift(&ends[1])
                 ? MTASK_OK
                 : mtask__proc_refused();
    start.ticket.socket = ends[1];
    start.fds[start.fd_count++] = ends[1];
    if (status == MTASK_OK)
        status = mtask__ticket_write(file, &start);
    if (status == MTASK_OK)
        status = mtask__start_program(&start, file, &state->server);
    mtask__proc_shut(&file);
    mtask__proc_shut(&ends[1]);
    if (status != MTASK_OK) {
        mtask__proc_shut(&ends[0]);
        return status;
    }
    state->server_socket = ends[0];
    state->serving = true;
    return MTASK_OK;
}

/* Lets go of one that has ended, or is to end. */
static void mtask__forker_drop(mtask__proc_state *state) {
    if (!state->serving)
        return;
    mtask__proc_shut(&state->server_socket);
    state->serving = false;
    mtask_nopark_begin(); /* with the lock held, other tasks of this thread must not run */
    mtask__child_await_end(&state->server);
    mtask_nopark_end();
    mtask__child_deinit(&state->server);
}

/* Sees to it that there is one. */
static mtask_status mtask__forker_ensure(mtask__proc_state *state) {
    if (!state->spawnable)
        return MTASK_UNSUPPORTED;
    if (state->serving && mtask__child_ended(&state->server))
        mtask__forker_drop(state);
    return state->serving ? MTASK_OK : mtask__forker_spawn(state);
}

MTASK_API mtask_status mtask_forkserver_start(void (*preload)(void)) {
    mtask__proc_state *state = mtask__proc_me();
    mtask_status status;
    mtask__lock(&state->server_lock);
    state->preload = preload;
    status = mtask__forker_ensure(state);
    mtask__unlock(&state->server_lock);
    return status;
}

MTASK_API mtask_status mtask_forkserver_stop(void) {
    mtask__proc_state *state = mtask__proc_me();
    mtask__lock(&state->server_lock);
    mtask__forker_drop(state);
    mtask__unlock(&state->server_lock);
    return MTASK_OK;
}

MTASK_API pid_t mtask_forkserver_pid(void) {
    mtask__proc_state *state = mtask__proc_me();
    pid_t pid;
    mtask__lock(&state->server_lock);
    pid = state->serving && !mtask__child_ended(&state->server) ? state->server.pid : 0;
    mtask__unlock(&state->server_lock);
    return pid;
}

/* Sends a request; a server that has ended meanwhile is started anew. With the server's lock. */
static mtask_status mtask__forker_send(mtask__proc_state *state, const mtask__start *start,
                                       const int *fds, size_t count) {
    mtask__forker_ask ask;
    mtask_status status = MTASK_OK;
    memset(&ask, 0, sizeof ask);
    ask.count = (uint32_t)start->fd_count;
    for (size_t i = 0; i < start->fd_count; i++)
        ask.numbers[i] = start->fds[i];
    for (int i = 0; i < 2; i++) {
        status = mtask__forker_ensure(state);
        if (status != MTASK_OK ||
            mtask__packet_send(state->server_socket, &ask, sizeof ask, fds, count))
            return status;
        if (errno != EPIPE && errno != ECONNRESET)
            return mtask__proc_refused();
        mtask__forker_drop(state);
        status = MTASK_BROKEN;
    }
    return status;
}

/* Learns the number of the new process. */
static mtask_status mtask__forker_answer(int socket, mtask__child *child) {
    mtask__remote_news news;
    int process = -1;
    size_t count = 1;
    ssize_t got = mtask__packet_receive(socket, &news, sizeof news, &process, &count);
    if (got != (ssize_t)sizeof news || (news.kind != 1 && news.kind != 3))
        return MTASK_BROKEN;
    if (news.kind == 3) {
        errno = news.value;
        return mtask__proc_refused();
    }
    mtask__child_init(child, (pid_t)news.value);
    child->remote = true;
    child->fd = socket;
    child->process = count == 1 ? process : -1;
    return MTASK_OK;
}

static mtask_status mtask__forker_request(mtask__start *start, int file, mtask__child *child) {
    mtask__proc_state *state = mtask__proc_me();
    int fds[MTASK__SERVER_FDS];
    int ends[2];
    mtask_status status;
    mtask__lock(&state->server_lock); /* under which no process is forked that would keep ends[1] */
    if (!mtask__os_proc_pair(ends, true)) {
        mtask__unlock(&state->server_lock);
        return mtask__proc_refused();
    }
    fds[0] = file;
    fds[1] = ends[1];
    memcpy(fds + 2, start->fds, start->fd_count * sizeof *fds);
    status = mtask__forker_send(state, start, fds, start->fd_count + 2);
    mtask__proc_shut(&ends[1]);
    mtask__unlock(&state->server_lock);
    if (status == MTASK_OK)
        status = mtask__forker_answer(ends[0], child);
    if (status != MTASK_OK)
        mtask__proc_shut(&ends[0]);
    return status;
}

MTASK_API void mtask_proc_init(int argc, char **argv) {
    mtask__proc_state *state = mtask__proc_me();
    mtask__ticket ticket;
    int file;
    mtask__lock(&state->lock);
    state->spawnable = true;
    if (argc > 0)
        state->program = argv[0];
    mtask__unlock(&state->lock);
    if (argc != 3 || strcmp(argv[1], "--mtask-proc") != 0)
        return;
    file = atoi(argv[2]);
    if (file < 3 || !mtask__proc_pread(file, &ticket, sizeof ticket, 0) ||
        ticket.magic != MTASK__TICKET_MAGIC) {
        (void)fputs("mtask: --mtask-proc is for processes that the program itself starts\n",
                    stderr);
        _exit(2);
    }
    (void)fcntl(file, F_SETFD, FD_CLOEXEC);
    (void)fcntl((int)ticket.life, F_SETFD, FD_CLOEXEC);
    if (ticket.kind == MTASK__TICKET_SERVER) {
        close(file);
        (void)fcntl((int)ticket.socket, F_SETFD, FD_CLOEXEC);
        mtask__forker_enter(&ticket);
    }
    mtask__ticket_run(file, &ticket);
}

/* ---- >>proc ---- */

static void mtask__proc_free(mtask_proc *proc) {
    mtask__child_deinit(&proc->child);
    mtask__proc_shut(&proc->ticket);
    MTASK_FREE(proc);
}

/* With the state locked. */
static void mtask__proc_link(mtask_proc **list, mtask_proc *proc) {
    proc->prev = NULL;
    proc->next = *list;
    if (*list != NULL)
        (*list)->prev = proc;
    *list = proc;
}

static void mtask__proc_unlink(mtask_proc **list, mtask_proc *proc) {
    if (proc->prev != NULL)
        proc->prev->next = proc->next;
    else
        *list = proc->next;
    if (proc->next != NULL)
        proc->next->prev = proc->prev;
}

/* Gives back a reference. */
static void mtask__proc_unref(mtask_proc *proc) {
    if (mtask__add(&proc->references, (mtask_word)-1, ACQ_REL) == 1) /* pairs with itself */
        mtask__proc_free(proc);
}

/* Takes note of those that have ended and that nobody has a handle of. */
static void mtask__proc_sweep(mtask__proc_state *state) {
    mtask_proc *ended = NULL;
    mtask_proc *next;
    mtask__lock(&state->lock);
    for (mtask_proc *proc = state->released; proc != NULL; proc = next) {
        next = proc->next;
        if (!mtask__child_ended(&proc->child))
            continue;
        mtask__proc_unlink(&state->released, proc);
        proc->next = ended;
        ended = proc;
    }
    mtask__unlock(&state->lock);
    for (; ended != NULL; ended = next) {
        next = ended->next;
        mtask__proc_unref(ended);
    }
}

static mtask_proc *mtask__proc_new(const mtask__start *start) {
    mtask_proc *proc = (mtask_proc *)MTASK_MALLOC(sizeof *proc);
    if (proc == NULL)
        return NULL;
    memset(proc, 0, sizeof *proc);
    mtask__child_init(&proc->child, 0);
    proc->ticket = -1;
    proc->references = 1;
    proc->daemon = start->desc->daemon;
    proc->call = start->desc->call != NULL;
    return proc;
}

MTASK_API mtask_status mtask_proc_start_ex(mtask_proc **proc, const mtask_proc_desc *desc) {
    mtask__proc_state *state = mtask__proc_me();
    mtask__start start;
    mtask_proc *made;
    mtask_status status;
    if (proc == NULL || desc == NULL)
        return MTASK_INVALID;
    *proc = NULL;
    mtask__proc_sweep(state);
    status = mtask__start_init(&start, desc);
    if (status != MTASK_OK)
        return status;
    made = mtask__proc_new(&start);
    if (made == NULL)
        return MTASK_NOMEM;
    mtask__start_name(&start);
    memcpy(made->name, start.ticket.name, sizeof made->name);
    status = mtask__start_run(&start, &made->ticket, &made->child);
    if (status != MTASK_OK) {
        mtask__proc_free(made);
        return status;
    }
    mtask__lock(&state->lock);
    mtask__proc_link(&state->children, made);
    mtask__unlock(&state->lock);
    *proc = made;
    return MTASK_OK;
}

MTASK_API mtask_status mtask_proc_start(mtask_proc **proc, mtask_fn fn, void *arg) {
    mtask_proc_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.fn = fn;
    desc.arg = arg;
    return mtask_proc_start_ex(proc, &desc);
}

/* Whether it is a child of this process. */
static bool mtask__proc_is_ours(const mtask_proc *proc) {
    return proc != NULL && proc->child.owner == getpid();
}

/* "killed by signal 9 (Killed)" */
static void mtask__code_text(int code, char *text, size_t size) {
    if (code < 0)
        (void)snprintf(text, size, "killed by signal %d (%s)", -code, strsignal(-code));
    else
        (void)snprintf(text, size, "ended with exit code %d", code);
}

/* What its code says, where it has not left a word. */
static void mtask__proc_judge(const mtask_proc *proc, mtask_outcome *outcome) {
    if (proc->child.code == 0)
        return;
    outcome->status = proc->child.code < 0 || proc->child.unknown ? MTASK_CRASHED : MTASK_FAILED;
    if (proc->child.unknown)
        (void)snprintf(outcome->text, sizeof outcome->text,
                       "it ended without a result, and nobody knows with which code");
    else
        mtask__code_text(proc->child.code, outcome->text, sizeof outcome->text);
}

/* How one that has ended did, and its code. A task that had returned may still have been killed, or
   ended otherwise; but where nobody knows the code, its word counts. */
static int mtask__proc_outcome(const mtask_proc *proc, mtask_outcome *outcome) {
    mtask__verdict verdict;
    int code = proc->child.code;
    memset(outcome, 0, sizeof *outcome);
    if (code >= 0 && mtask__verdict_read(proc->ticket, &verdict)) {
        outcome->status = (mtask_status)verdict.status;
        if (proc->child.unknown)
            code = outcome->status == MTASK_OK ? 0 : 1;
        memcpy(outcome->text, verdict.text, sizeof outcome->text);
        outcome->text[sizeof outcome->text - 1] = 0;
        if (outcome->status == MTASK_OK && code == 0)
            outcome->value = (void *)(uintptr_t)verdict.value;
        if (outcome->status != MTASK_OK || code == 0)
            return code;
    }
    mtask__proc_judge(proc, outcome);
    return code;
}

MTASK_API mtask_status mtask_proc_join(mtask_proc *proc, mtask_outcome *outcome, int64_t timeout) {
    mtask_outcome own;
    int64_t deadline;
    mtask_status status =
        mtask__proc_is_ours(proc) ? mtask__deadline(timeout, &deadline) : MTASK_INVALID;
    if (status == MTASK_OK)
        status = mtask__child_await(&proc->child, deadline);
    if (status != MTASK_OK)
        return status;
    outcome = outcome != NULL ? outcome : &own;
    (void)mtask__proc_outcome(proc, outcome);
    return outcome->status == MTASK_OK ? MTASK_OK : MTASK_FAILED;
}

MTASK_API mtask_status mtask_proc_result(mtask_proc *proc, mtask_buf *result) {
    mtask__verdict verdict;
    mtask_outcome outcome;
    mtask_status status;
    if (!mtask__proc_is_ours(proc) || result == NULL || !proc->call)
        return MTASK_INVALID;
    if (!mtask__child_ended(&proc->child))
        return MTASK_TIMEOUT;
    (void)mtask__proc_outcome(proc, &outcome);
    if (outcome.status != MTASK_OK || !mtask__verdict_read(proc->ticket, &verdict))
        return MTASK_FAILED;
    status = mtask_buf_reserve(result, (size_t)verdict.out_size);
    if (status != MTASK_OK)
        return status;
    if (!mtask__proc_pread(proc->ticket, result->data + result->size, (size_t)verdict.out_size,
                           (off_t)verdict.out_at))
        return MTASK_SYSTEM;
    mtask__buf_grow(result, (size_t)verdict.out_size);
    return MTASK_OK;
}

MTASK_API bool mtask_proc_is_alive(mtask_proc *proc) {
    return mtask__proc_is_ours(proc) && !mtask__child_ended(&proc->child);
}

MTASK_API pid_t mtask_proc_pid(const mtask_proc *proc) {
    return proc == NULL ? 0 : proc->child.pid;
}

MTASK_API const char *mtask_proc_name(const mtask_proc *proc) {
    return proc == NULL ? "" : proc->name;
}

MTASK_API mtask_status mtask_proc_exitcode(mtask_proc *proc, int *code) {
    mtask_outcome outcome;
    if (!mtask__proc_is_ours(proc) || code == NULL)
        return MTASK_INVALID;
    if (!mtask__child_ended(&proc->child))
        return MTASK_TIMEOUT;
    *code = mtask__proc_outcome(proc, &outcome);
    return MTASK_OK;
}

MTASK_API mtask_status mtask_proc_signal(mtask_proc *proc, int number) {
    return mtask__proc_is_ours(proc) ? mtask__child_signal(&proc->child, number, false)
                                     : MTASK_INVALID;
}

MTASK_API mtask_status mtask_proc_terminate(mtask_proc *proc) {
    return mtask_proc_signal(proc, SIGTERM);
}

MTASK_API mtask_status mtask_proc_kill(mtask_proc *proc) {
    return mtask_proc_signal(proc, SIGKILL);
}

MTASK_API mtask_status mtask_proc_sentinel(mtask_proc *proc, int *fd) {
    if (!mtask__proc_is_ours(proc) || fd == NULL)
        return MTASK_INVALID;
    *fd = mtask__child_fd(&proc->child, true);
    if (*fd >= 0)
        return MTASK_OK;
    return errno == ENOSYS ? MTASK_UNSUPPORTED : MTASK_SYSTEM;
}

MTASK_API void mtask_proc_release(mtask_proc *proc) {
    mtask__proc_state *state = mtask__proc_me();
    bool ended;
    if (proc == NULL)
        return;
    if (!mtask__proc_is_ours(proc)) { /* a copy of the parent's handle */
        mtask__proc_unref(proc);
        return;
    }
    ended = mtask__child_ended(&proc->child);
    mtask__lock(&state->lock);
    mtask__proc_unlink(&state->children, proc);
    if (!ended)
        mtask__proc_link(&state->released, proc);
    mtask__unlock(&state->lock);
    if (ended)
        mtask__proc_unref(proc);
}

MTASK_API mtask_status mtask_proc_close(mtask_proc *proc) {
    if (proc != NULL && mtask__proc_is_ours(proc) && !mtask__child_ended(&proc->child))
        return MTASK_INVALID;
    mtask_proc_release(proc);
    return MTASK_OK;
}

/* ---- >>proc-all ---- */

static void mtask__proc_describe(const mtask_proc *proc, mtask_proc_info *info) {
    memset(info, 0, sizeof *info);
    info->pid = proc->child.pid;
    info->parent = proc->child.owner;
    info->daemon = proc->daemon;
    info->started = true;
    memcpy(info->name, proc->name, sizeof info->name);
}

MTASK_API mtask_status mtask_proc_enumerate(mtask_proc_info *infos, size_t capacity,
                                            size_t *count) {
    mtask__proc_state *state = mtask__proc_me();
    size_t found = 0;
    if (count == NULL || (infos == NULL && capacity > 0))
        return MTASK_INVALID;
    mtask__proc_sweep(state);
    mtask__lock(&state->lock);
    for (int i = 0; i < 2; i++)
        for (mtask_proc *proc = i == 0 ? state->children : state->released; proc != NULL;
             proc = proc->next) {
            if (mtask__child_ended(&proc->child))
                continue;
            if (found < capacity)
                mtask__proc_describe(proc, &infos[found]);
            found++;
        }
    mtask__unlock(&state->lock);
    *count = found;
    return found > capacity ? MTASK_OVERFLOW : MTASK_OK;
}

/* Some child that has not ended, with a reference; NULL: there is none. */
static mtask_proc *mtask__proc_next_alive(mtask__proc_state *state, bool daemon) {
    mtask_proc *found = NULL;
    mtask__lock(&state->lock);
    for (int i = 0; i < 2 && found == NULL; i++)
        for (mtask_proc *proc = i == 0 ? state->children : state->released;
             proc != NULL && found == NULL; proc = proc->next)
            if (proc->daemon == daemon && !mtask__child_ended(&proc->child))
                found = proc;
    if (found != NULL) /* relaxed: the list has a reference, too */
        mtask__add(&found->references, 1, RELAXED);
    mtask__unlock(&state->lock);
    return found;
}

/* Waits for all of a kind. */
static mtask_status mtask__proc_await_all(mtask__proc_state *state, bool daemon, int64_t deadline) {
    mtask_status status = MTASK_OK;
    while (status == MTASK_OK) {
        mtask_proc *proc = mtask__proc_next_alive(state, daemon);
        if (proc == NULL)
            break;
        status = mtask__child_await(&proc->child, deadline);
        mtask__proc_unref(proc);
    }
    return status;
}

static void mtask__proc_signal_daemons(mtask__proc_state *state, int number) {
    mtask__lock(&state->lock);
    for (int i = 0; i < 2; i++)
        for (mtask_proc *proc = i == 0 ? state->children : state->released; proc != NULL;
             proc = proc->next)
            if (proc->daemon)
                (void)mtask__child_signal(&proc->child, number, false);
    mtask__unlock(&state->lock);
}

MTASK_API mtask_status mtask_proc_join_all(int64_t timeout) {
    mtask__proc_state *state = mtask__proc_me();
    int64_t deadline;
    mtask_status status = mtask__deadline(timeout, &deadline);
    if (status == MTASK_OK)
        status = mtask__proc_await_all(state, false, deadline);
    if (status != MTASK_OK)
        return status;
    mtask__proc_signal_daemons(state, SIGTERM);
    if (mtask__proc_await_all(state, true, mtask_deadline(MTASK_SEC(1))) == MTASK_TIMEOUT) {
        mtask__proc_signal_daemons(state, SIGKILL);
        (void)mtask__proc_await_all(state, true, MTASK_FOREVER);
    }
    mtask__proc_sweep(state);
    return MTASK_OK;
}

/* ---- >>procpool-table: what a pool and its processes share ---- */

/* Tasks lie in slots. The parent fills a free one, makes it READY, appends its number to `order`,
   and counts `ready` up. A process takes the number at `claim`, tries to make that slot its own
   (READY to TAKEN, with its seat: one CAS), and, whether it could or not, counts `claim` up,
   unless somebody else did. So it does not matter where one is killed: what it has taken bears its
   number, and what it has not taken others find. Its result goes into the slot, the slot becomes
   DONE, and its number goes into the seat's ring, which the parent empties; when a process has
   ended, the parent also looks for slots that bear its number.

   A slot's word, `state`: bits 0..7 what it is, bits 8..15 the seat of who took it, bits 16..31 how
   often it was READY. The entry of `order` holds that number, too: so a slot that was taken back and
   filled again is not begun before its turn.
       FREE     the parent's
       READY    anybody may take it; the parent may take it back (to FREE)
       TAKEN    runs in a process; the parent may make it EXPIRED, before it kills that
       DONE     the result is in it
       EXPIRED  its time is up, or its pool is: its process waits to be killed

   Nobody sleeps through news. A process that finds nothing sets its bit in `sleepers`, looks
   again, and reads its bell. The parent counts `ready` up, then looks at `sleepers`: of these two
   pairs, store and load, both sequentially consistent, at least one sees the other. The same with
   `resting` and the rings' tails, for the parent, who sleeps in poll, on its bell and what tells
   of the processes' ends. A bell that is rung by a process which is killed before: its end is news
   itself. */
enum {
    MTASK__SLOT_FREE,
    MTASK__SLOT_READY,
    MTASK__SLOT_TAKEN,
    MTASK__SLOT_DONE,
    MTASK__SLOT_EXPIRED
};

# define MTASK__SLOTS   ((unsigned)(MTASK_PROCPOOL_SLOTS))
# define MTASK__ORDERS  (2 * MTASK__SLOTS)
# define MTASK__SEATS   256 /* most processes */
# define MTASK__ALIGNED __attribute__((aligned(64)))

typedef struct mtask__berth {
    mtask_word state;
    uint32_t items;     /* 0: one task; else so many, framed: see below */
    uint32_t status;    /* of the result */
    mtask_word began;   /* when, if somebody wants to know: milliseconds; 0: not yet */
    uint64_t size;      /* of the input, then of the result; text, if it failed */
    mtask__place place; /* module 0: the offset is the function's address */
    unsigned char data[MTASK_PROCPOOL_INLINE] __attribute__((aligned(16)));
} MTASK__ALIGNED mtask__berth;

enum {
    MTASK__SEAT_STARTING,
    MTASK__SEAT_INIT,
    MTASK__SEAT_WORKS,
    MTASK__SEAT_UNFIT,
    MTASK__SEAT_LEAVES
};

/* What a process says of itself. */
typedef struct mtask__seat {
    mtask_word stage;
    mtask_word task;            /* number of the slot that it works on, plus 1 */
    mtask_word wants;           /* the same, while it waits for a big input */
    mtask_word tail;            /* results so far; counted up once the ring holds them */
    char text[MTASK_TEXT_SIZE]; /* why it is unfit, and: */
    uint32_t status;
    uint16_t ring[MTASK__SLOTS];
} MTASK__ALIGNED mtask__seat;

typedef struct mtask__table {
    mtask_word ready MTASK__ALIGNED;
    mtask_word claim MTASK__ALIGNED;
    mtask_word resting MTASK__ALIGNED; /* the parent sleeps, or is about to */
    mtask_word stop;                   /* no more tasks will come */
    mtask_word timed;                  /* somebody wants to know when tasks begin */
    mtask_word sleepers[MTASK__SEATS / 32] MTASK__ALIGNED;
    mtask_word order
        [MTASK__ORDERS] MTASK__ALIGNED; /* the number of a slot, and bits 16..31 of its state */
    mtask__berth slots[MTASK__SLOTS];
} mtask__table; /* behind it lie the seats */

/* What stands in `order` for a READY slot, and back. */
static mtask_word mtask__order_of(unsigned number, mtask_word state) {
    return number | (state & 0xffff0000u);
}

static mtask_word mtask__order_state(mtask_word order) {
    return MTASK__SLOT_READY | (order & 0xffff0000u);
}

/* What a slot is; the seat of who has taken it; the same state with another kind. */
static unsigned mtask__state_kind(mtask_word state) {
    return state & 0xff;
}

static unsigned mtask__state_seat(mtask_word state) {
    return state >> 8 & 0xff;
}

static mtask_word mtask__state_as(mtask_word state, unsigned kind) {
    return (state & ~(mtask_word)0xff) | kind;
}

static mtask__seat *mtask__table_seat(mtask__table *table, unsigned number) {
    return (mtask__seat *)(void *)(table + 1) + number;
}

/* Now, in a unit that fits into a word, never 0. */
static mtask_word mtask__milliseconds(void) {
    mtask_word now = (mtask_word)(uint64_t)(mtask_now() / 1000000);
    return now == 0 ? 1 : now;
}

/* In front of each of several items that go through one slot, and of each of their results. What
   follows is filled up to 16 bytes. */
typedef struct mtask__parcel {
    uint64_t size;
    uint32_t status;
    uint32_t unused;
} mtask__parcel;

static size_t mtask__frame_room(size_t size) {
    return sizeof(mtask__parcel) + (size + 15) / 16 * 16;
}

/* Appends one. */
static mtask_status mtask__frame_append(mtask_buf *buf, mtask_status result, const void *data,
                                        size_t size) {
    size_t room = mtask__frame_room(size);
    mtask__parcel frame;
    mtask_status status = mtask_buf_reserve(buf, room);
    if (status != MTASK_OK)
        return status;
    frame.size = size;
    frame.status = (uint32_t)result;
    frame.unused = 0;
    memset(buf->data + buf->size + room - 16, 0, 16);
    memcpy(buf->data + buf->size, &frame, sizeof frame);
    if (size > 0)
        memcpy(buf->data + buf->size + sizeof frame, data, size);
    mtask__buf_grow(buf, room);
    return MTASK_OK;
}

/* The next one of `size` bytes at *at; NULL: there is none that is whole. */
static const char *mtask__frame_next(const char *data, size_t size, size_t *at,
                                     mtask__parcel *frame) {
    const char *found = data + *at;
    if (size - *at < sizeof *frame)
        return NULL;
    memcpy(frame, found, sizeof *frame);
    if (frame->size > size - *at - sizeof *frame)
        return NULL;
    *at += mtask__frame_room((size_t)frame->size);
    *at = *at > size ? size : *at;
    return found + sizeof *frame;
}

/* ---- >>procpool-process: what runs in a pool's process ---- */

/* What it is told when it begins, followed by what the initializer is given. */
typedef struct mtask__post {
    int memory;
    int bell;    /* its own */
    int manager; /* the parent's */
    int socket;
    unsigned seat;
    unsigned unused;
    uint64_t max_tasks;
    mtask__place init; /* offset 0: none */
    uint64_t init_size;
    uint64_t align;
} mtask__post;

typedef struct mtask__hand {
    mtask__post post;
    mtask__table *table;
    mtask__seat *seat;
    mtask__place place; /* of the function that was found last */
    mtask_bytes_fn fn;
    mtask_buf out;    /* of one item */
    mtask_buf framed; /* of several */
    char *big;        /* an input that did not fit into its slot */
} mtask__hand;

/* A function by its place, in the parent of which this is a fork, or anywhere. */
static mtask_bytes_fn mtask__hand_find(mtask__hand *hand, const mtask__place *place) {
    uintptr_t address;
    if (hand->fn != NULL && hand->place.module == place->module &&
        hand->place.offset == place->offset)
        return hand->fn;
    address = place->module == 0 ? (uintptr_t)place->offset : mtask__place_find(place);
    memcpy(&hand->fn, &address, sizeof hand->fn);
    hand->place = *place;
    return hand->fn;
}

/* Takes the next task; -1: there is none. */
static int mtask__hand_claim(mtask__hand *hand) {
    mtask__table *table = hand->table;
    for (;;) {
        mtask_word claim = mtask_word_load(&table->claim);
        mtask_word order;
        mtask_word state;
        unsigned number;
        bool mine;
        if (claim == mtask_word_load(&table->ready))
            return -1;
        /* relaxed: ready was counted up after it; if it is another one by now, the CAS still
           decides */
        order = mtask__load(&table->order[claim % MTASK__ORDERS], RELAXED);
        number = (order & 0xffff) % MTASK__SLOTS;
        state = mtask__order_state(order);
        mine = mtask_word_cas(&table->slots[number].state, &state,
                              mtask__state_as(state, MTASK__SLOT_TAKEN) | hand->post.seat << 8);
        state = claim;
        (void)mtask_word_cas(&table->claim, &state, claim + 1);
        if (mine)
            return (int)number;
    }
}

/* Tells the parent, if it sleeps. */
static void mtask__hand_ring(const mtask__hand *hand) {
    mtask__table *table = hand->table;
    if (mtask__fence_load(&table->resting) != 0 && mtask_word_exchange(&table->resting, 0) != 0)
        mtask__os_bell_ring(hand->post.manager);
}

/* Reads or writes through the socket; without a parent there is nothing to do any more. */
static void mtask__hand_transfer(const mtask__hand *hand, char *data, size_t size, bool out) {
    while (size > 0) {
        ssize_t moved = out ? send(hand->post.socket, data, size, MSG_NOSIGNAL)
                            : recv(hand->post.socket, data, size, 0);
        if (moved > 0) {
            data += moved;
            size -= (size_t)moved;
        } else if (moved == 0 || errno != EINTR) {
            _exit(1);
        }
    }
}

/* The input of a task; NULL: no memory, and the input was dropped. */
static const char *mtask__hand_input(mtask__hand *hand, mtask__berth *slot, unsigned number) {
    size_t size = (size_t)slot->size;
    char scrap[4096];
    if (size <= sizeof slot->data)
        return (const char *)slot->data;
    hand->big = (char *)MTASK_MALLOC(size);
    mtask_word_store(&hand->seat->wants, number + 1);
    mtask__hand_ring(hand);
    if (hand->big != NULL) {
        mtask__hand_transfer(hand, hand->big, size, false);
        return hand->big;
    }
    while (size > 0) {
        size_t part = size < sizeof scrap ? size : sizeof scrap;
        mtask__hand_transfer(hand, scrap, part, false);
        size -= part;
    }
    return NULL;
}

/* Does one item. */
static mtask_status mtask__hand_do(mtask__hand *hand, mtask_bytes_fn fn, const void *in,
                                   size_t size, mtask_outcome *outcome) {
    mtask__work_order order;
    memset(&order, 0, sizeof order);
    order.call = fn;
    order.in = size == 0 ? NULL : in;
    order.in_size = size;
    order.out = hand->out;
    mtask__buf_clear(&order.out);
    (void)mtask__run(mtask__order_run, &order, outcome);
    hand->out = order.out;
    return outcome->status;
}

/* Does several; their results are in hand->framed then. */
static mtask_status mtask__hand_do_all(mtask__hand *hand, mtask_bytes_fn fn, const char *in,
                                       size_t size, unsigned items) {
    size_t at = 0;
    mtask_status status = MTASK_OK;
    mtask__buf_clear(&hand->framed);
    for (unsigned i = 0; i < items && status == MTASK_OK; i++) {
        mtask__parcel frame;
        mtask_outcome outcome;
        const char *item = mtask__frame_next(in, size, &at, &frame);
        if (item == NULL)
            return MTASK_BROKEN;
        if (mtask__hand_do(hand, fn, item, (size_t)frame.size, &outcome) == MTASK_OK)
            status = mtask__frame_append(&hand->framed, MTASK_OK, hand->out.data, hand->out.size);
        else
            status = mtask__frame_append(&hand->framed, outcome.status, outcome.text,
                                         strlen(outcome.text));
    }
    return status;
}

/* Hands over a result. If the task's time is up, waits for its end. */
static void mtask__hand_finish(mtask__hand *hand, unsigned number, const mtask_outcome *outcome,
                               mtask_buf *out) {
    mtask__berth *slot = &hand->table->slots[number];
    mtask__seat *seat = hand->seat;
    mtask_word state = mtask_word_load(&slot->state);
    bool good = outcome->status == MTASK_OK;
    slot->size = good ? out->size : strlen(outcome->text);
    slot->status = (uint32_t)outcome->status;
    if (!good)
        memcpy(slot->data, outcome->text, (size_t)slot->size);
    else if (out->size > 0 && out->size <= sizeof slot->data)
        memcpy(slot->data, out->data, out->size);
    if (mtask__state_kind(state) != MTASK__SLOT_TAKEN ||
        !mtask_word_cas(&slot->state, &state, mtask__state_as(state, MTASK__SLOT_DONE)))
        for (;;)
            pause();
    mtask__store(&seat->task, 0, RELAXED); /* only a hint */
    /* release: pairs with the acquire in mtask__procpool_collect */
    mtask__store(&seat->ring[seat->tail % MTASK__SLOTS], (uint16_t)number, RELAXED);
    mtask__store(&seat->tail, seat->tail + 1, RELEASE);
    mtask__hand_ring(hand);
    if (good && out->size > sizeof slot->data)
        mtask__hand_transfer(hand, out->data, out->size, true);
}

# define MTASK__HAND_KEEPS ((size_t)1 << 20) /* a buffer that is larger is not kept */

static void mtask__hand_work(mtask__hand *hand, unsigned number) {
    mtask__berth *slot = &hand->table->slots[number];
    mtask_bytes_fn fn = mtask__hand_find(hand, &slot->place);
    size_t size = (size_t)slot->size;
    bool several = slot->items > 0;
    mtask_outcome outcome;
    const char *in;
    memset(&outcome, 0, sizeof outcome);
    if (mtask__load(&hand->table->timed, RELAXED) != 0) /* stored before the task was made READY */
        mtask__store(&slot->began, mtask__milliseconds(), RELAXED);
    mtask__store(&hand->seat->task, number + 1, RELEASE); /* pairs with mtask__procpool_expiry */
    in = mtask__hand_input(hand, slot, number);
    if (in == NULL || fn == NULL)
        outcome.status = in == NULL ? MTASK_NOMEM : MTASK_NOT_FOUND;
    else if (several)
        outcome.status = mtask__hand_do_all(hand, fn, in, size, slot->items);
    else
        (void)mtask__hand_do(hand, fn, in, size, &outcome);
    mtask__hand_finish(hand, number, &outcome, several ? &hand->framed : &hand->out);
    MTASK_FREE(hand->big);
    hand->big = NULL;
    if (hand->out.capacity > MTASK__HAND_KEEPS)
        mtask_buf_free(&hand->out);
    if (hand->framed.capacity > MTASK__HAND_KEEPS)
        mtask_buf_free(&hand->framed);
}

# define MTASK__HAND_SPINS 16

/* Waits for more to do; false: there is no more. */
static bool mtask__hand_rest(mtask__hand *hand) {
    mtask__table *table = hand->table;
    mtask_word *sleepers = &table->sleepers[hand->post.seat / 32];
    mtask_word bit = (mtask_word)1 << hand->post.seat % 32;
    for (int i = 0; i < MTASK__HAND_SPINS && mtask__spin(8); i++)
        if (mtask_word_load(&table->claim) != mtask_word_load(&table->ready))
            return true;
    (void)__atomic_fetch_or(sleepers, bit, __ATOMIC_SEQ_CST);
    if (mtask_word_load(&table->claim) == mtask_word_load(&table->ready)) {
        if (mtask_word_load(&table->stop) != 0)
            return false;
        mtask__os_bell_wait(hand->post.bell);
    }
    (void)__atomic_fetch_and(sleepers, ~bit, __ATOMIC_SEQ_CST);
    return true;
}

/* Runs the initializer; whether it succeeded. */
static bool mtask__hand_init(mtask__hand *hand, const char *in) {
    mtask_outcome outcome;
    mtask_bytes_fn init;
    memset(&outcome, 0, sizeof outcome);
    if (hand->post.init.offset != 0) {
        mtask_word_store(&hand->seat->stage, MTASK__SEAT_INIT);
        init = mtask__hand_find(hand, &hand->post.init);
        if (init == NULL)
            outcome.status = MTASK_NOT_FOUND;
        else
            (void)mtask__hand_do(hand, init, in, (size_t)hand->post.init_size, &outcome);
    }
    if (outcome.status != MTASK_OK) {
        hand->seat->status = (uint32_t)outcome.status;
        memcpy(hand->seat->text, outcome.text, sizeof outcome.text);
        mtask_word_store(&hand->seat->stage, MTASK__SEAT_UNFIT);
        return false;
    }
    mtask_word_store(&hand->seat->stage, MTASK__SEAT_WORKS);
    return true;
}

/* A pool's process: what mtask_proc_start_ex is asked to run. */
static mtask_status mtask__hand_main(const void *in, size_t size, mtask_buf *out) {
    struct sigaction usual;
    mtask__hand hand;
    mtask_shm memory;
    uint64_t done = 0;
    mtask_status status;
    (void)size, (void)out;
    memset(&hand, 0, sizeof hand);
    memcpy(&hand.post, in, sizeof hand.post);
    memset(&usual, 0, sizeof usual);
    usual.sa_handler = SIG_DFL;
    (void)sigaction(SIGTERM, &usual, NULL); /* the pool ends it by that */
    status = mtask_shm_attach_fd(&memory, hand.post.memory);
    if (status != MTASK_OK)
        return status;
    hand.table = (mtask__table *)memory.data;
    hand.seat = mtask__table_seat(hand.table, hand.post.seat);
    if (mtask__hand_init(&hand, (const char *)in + sizeof hand.post)) {
        do {
            int number = mtask__hand_claim(&hand);
            if (number >= 0) {
                mtask__hand_work(&hand, (unsigned)number);
                done++;
            } else if (!mtask__hand_rest(&hand)) {
                break;
            }
        } while (hand.post.max_tasks == 0 || done < hand.post.max_tasks);
        mtask_word_store(&hand.seat->stage, MTASK__SEAT_LEAVES);
    }
    mtask_buf_free(&hand.out);
    mtask_buf_free(&hand.framed);
    return mtask_shm_close(&memory);
}

/* ---- >>procpool-state: the parent's side ---- */

/* What waits to be put into slots: a task, or a map, which is put there chunk by chunk. */
typedef struct mtask__source {
    struct mtask__source *next; /* in the backlog */
    struct mtask__source *prev;
    bool queued; /* it is in it */
    bool is_map;
} mtask__source;

/* A task with its future. */
typedef struct mtask__proctask {
    mtask_future future;
    mtask__source source;
    mtask_procpool *pool;
    mtask_word nonce; /* of the process that submitted it */
    int slot;         /* in which it lies; -1: in none */
    uint32_t items;
    mtask__place place;
    int64_t limit;
    void (*on_success)(const void *data, size_t size, void *ctx);
    void (*on_failure)(const mtask_outcome *outcome, void *ctx);
    void *ctx;
    char *result; /* NULL: none; `in` or memory of its own */
    size_t result_size;
    size_t in_size;
    size_t room; /* bytes at `in` */
    char *in;    /* behind this */
} __attribute__((aligned(16))) mtask__proctask;

/* A map with its future. */
typedef struct mtask__procmap {
    mtask_future future;
    mtask__source source;
    mtask_procpool *pool;
    mtask_word nonce;
    mtask_procmap_desc desc;
    mtask__place place;
    size_t next;      /* item that has not been put into a slot */
    size_t left;      /* items that have not ended */
    mtask_mutex lock; /* held while results are written; guards: */
    bool abandoned;   /* nobody wants them any more */
    size_t failed_at; /* of the first item that failed; SIZE_MAX: none */
    bool canceled;    /* it did not fail, but was cancelled */
    mtask_outcome failure;
} mtask__procmap;

/* What the parent knows of a slot. */
typedef struct mtask__entry_of_slot {
    mtask__proctask *task; /* or */
    mtask__procmap *map;
    size_t first; /* items of the map */
    size_t count;
    const char *in; /* an input that did not fit */
    char *own;      /* that memory, if it is only for this; else NULL */
    size_t in_size;
    int64_t limit;
    mtask_word verdict; /* an mtask_status: why it was EXPIRED */
    mtask_word
        known;     /* 1: the rest was written; the manager looks at this first, since what leads it
                         here goes through another process, of which this language knows nothing */
    unsigned next; /* free slot; SLOTS: none */
} mtask__tenant;

/* Bytes that go through a process's socket. */
typedef struct mtask__transfer {
    int slot;   /* -1: none */
    char *data; /* NULL, of a result: no memory; the bytes are dropped */
    size_t size;
    size_t done;
} mtask__transfer;

/* What the parent knows of a process. */
typedef struct mtask__worker_process {
    mtask__child child;
    int ticket;
    bool lives;
    int bell[2];
    int socket;
    mtask_word head;      /* results taken from its ring */
    mtask__transfer give; /* an input */
    mtask__transfer take; /* a result */
} mtask__crew;

struct mtask_procpool {
    mtask_mutex lock; /* guards what follows, but for the manager's */
    mtask_word nonce;
    struct mtask_procpool *next; /* in the process's list */
    unsigned workers;
    mtask_procpool_desc desc;
    char name[MTASK_NAME_SIZE];
    mtask__place init;
    char *post; /* what a process is told, with what the initializer is given */
    unsigned *cpus;
    mtask_shm memory;
    mtask__table *table;
    int bell[2];
    mtask__source *first; /* the backlog */
    mtask__source *last;
    unsigned free; /* slots: the first; SLOTS: none */
    mtask_word
        reached; /* slots that have ever been used are below this: the others' memory is not touched */
    size_t used;        /* slots that are not free */
    size_t outstanding; /* tasks, but for those of maps, that have not ended */
    size_t waiting;     /* those of them that are in no slot */
    mtask_word room;    /* counts what has ended, for those who wait for that: */
    unsigned waiters;
    bool closed;
    bool terminated;
    bool broken;
    bool purge; /* there are EXPIRED slots whose processes are to be killed */
    mtask_outcome why;
    int64_t shortest; /* limit of all tasks so far */
    mtask_procpool_stats stats;
    mtask__tenant tenants[MTASK__SLOTS];
    uint16_t generations[MTASK__SLOTS]; /* how often each slot was READY */
    mtask_word attention;               /* 1: the manager is to look at what is wanted of it */
    mtask_word ended;                   /* 1: all is over */
    mtask_thread manager;
    uint64_t manager_id;
    /* The manager's own: */
    mtask__crew *crew;
    int64_t kill_at;  /* when processes that were asked to end are killed; 0: they were not asked */
    int64_t again_at; /* when to try again to start a process; 0: now */
    unsigned misses;  /* starts in a row that came to nothing */
    bool stopping;    /* the processes have been told to end */
    unsigned passes;  /* since it last slept in poll */
    struct pollfd *polled;
};

static mtask__proctask *mtask__proctask_of(mtask_future *future) {
    return (mtask__proctask *)(void *)future; /* its first member */
}

static mtask__procmap *mtask__procmap_of(mtask_future *future) {
    return (mtask__procmap *)(void *)future;
}

static mtask__proctask *mtask__source_task(mtask__source *source) {
    return (mtask__proctask *)(void *)((char *)source - offsetof(mtask__proctask, source));
}

static mtask__procmap *mtask__source_map(mtask__source *source) {
    return (mtask__procmap *)(void *)((char *)source - offsetof(mtask__procmap, source));
}

static mtask__berth *mtask__procpool_slot(const mtask_procpool *pool, unsigned number) {
    return &pool->table->slots[number];
}

/* What the manager knows of a slot that a process has taken. */
static mtask__tenant *mtask__procpool_tenant(mtask_procpool *pool, unsigned number) {
    mtask__tenant *tenant = &pool->tenants[number];
    (void)mtask__load(&tenant->known, ACQUIRE); /* pairs with mtask__procpool_announce */
    return tenant;
}

/* Around forks: the lock is held, so that the child does not find it locked. */
static void mtask__procpool_fork_prepare(void) {
    for (mtask_procpool *pool = mtask__proc_process.pools; pool != NULL; pool = pool->next)
        mtask__lock(&pool->lock);
}

static void mtask__procpool_fork_parent(void) {
    for (mtask_procpool *pool = mtask__proc_process.pools; pool != NULL; pool = pool->next)
        mtask__unlock(&pool->lock);
}

/* In the child: so that the processes of its parent's pools see only the parent. */
static void mtask__procpool_fork_child(void) {
    for (mtask_procpool *pool = mtask__proc_process.pools; pool != NULL; pool = pool->next) {
        mtask__unlock(&pool->lock);
        for (unsigned i = 0; i < pool->workers; i++)
            mtask__proc_shut(&pool->crew[i].socket);
    }
    mtask__proc_process.pools = NULL;
}

/* ---- >>procpool-publish: into slots, and back; with the pool locked ---- */

static void mtask__backlog_append(mtask_procpool *pool, mtask__source *source) {
    source->queued = true;
    source->next = NULL;
    source->prev = pool->last;
    if (pool->last != NULL)
        pool->last->next = source;
    else
        pool->first = source;
    pool->last = source;
}

static void mtask__backlog_remove(mtask_procpool *pool, mtask__source *source) {
    if (!source->queued)
        return;
    source->queued = false;
    if (source->prev != NULL)
        source->prev->next = source->next;
    else
        pool->first = source->next;
    if (source->next != NULL)
        source->next->prev = source->prev;
    else
        pool->last = source->prev;
}

/* Places of `order` that are free. What is no longer READY is passed over for the processes. */
static unsigned mtask__procpool_orders(const mtask_procpool *pool) {
    mtask__table *table = pool->table;
    mtask_word ready = mtask_word_load(&table->ready);
    mtask_word claim = mtask_word_load(&table->claim);
    while (claim != ready && ready - claim > MTASK__SLOTS) {
        mtask_word order = mtask__load(&table->order[claim % MTASK__ORDERS], RELAXED); /* own */
        mtask_word seen = claim;
        if (mtask_word_load(&table->slots[order & 0xffff].state) == mtask__order_state(order))
            break;
        (void)mtask_word_cas(&table->claim, &seen, claim + 1);
        claim = mtask_word_load(&table->claim);
    }
    return MTASK__ORDERS - (ready - claim);
}

static unsigned mtask__procpool_take_slot(mtask_procpool *pool) {
    unsigned number = pool->free;
    pool->free = pool->tenants[number].next;
    pool->used++;
    if (number >= pool->reached) /* relaxed: pairs with looks at slots that are in use for long */
        mtask__store(&pool->reached, number + 1, RELAXED);
    return number;
}

static void mtask__procpool_give_slot(mtask_procpool *pool, unsigned number) {
    mtask__tenant *tenant = &pool->tenants[number];
    MTASK_FREE(tenant->own);
    memset(tenant, 0, sizeof *tenant);
    tenant->next = pool->free;
    pool->free = number;
    pool->used--;
    mtask_word_store(&mtask__procpool_slot(pool, number)->state, MTASK__SLOT_FREE);
}

/* Lets the processes have it. */
static void mtask__procpool_announce(mtask_procpool *pool, unsigned number) {
    mtask__table *table = pool->table;
    mtask_word ready = mtask_word_load(&table->ready);
    mtask_word state = MTASK__SLOT_READY | (mtask_word)++pool->generations[number] << 16;
    mtask__store(&pool->tenants[number].known, 1, RELEASE); /* pairs with mtask__procpool_tenant */
    mtask_word_store(&mtask__procpool_slot(pool, number)->state, state);
    /* relaxed: pairs with the load in mtask__hand_claim */
    mtask__store(&table->order[ready % MTASK__ORDERS], mtask__order_of(number, state), RELAXED);
    mtask_word_store(&table->ready, ready + 1);
}

/* Fills a slot but for its data. */
static mtask__berth *mtask__procpool_fill(mtask_procpool *pool, unsigned number,
                                          const mtask__place *place, uint32_t items, size_t size,
                                          int64_t limit) {
    mtask__berth *slot = mtask__procpool_slot(pool, number);
    slot->items = items;
    slot->place = *place;
    slot->size = size;
    mtask__store(&slot->began, 0, RELAXED); /* before READY */
    pool->tenants[number].in_size = size;
    pool->tenants[number].limit = limit;
    if (limit > 0 && limit < pool->shortest) {
        pool->shortest = limit;
        mtask__store(&pool->table->timed, 1, RELAXED); /* before READY */
    }
    return slot;
}

static void mtask__procpool_put_task(mtask_procpool *pool, mtask__proctask *task) {
    unsigned number = mtask__procpool_take_slot(pool);
    mtask__tenant *tenant = &pool->tenants[number];
    mtask__berth *slot =
        mtask__procpool_fill(pool, number, &task->place, task->items, task->in_size, task->limit);
    tenant->task = task;
    task->slot = (int)number;
    if (task->in_size <= sizeof slot->data)
        memcpy(slot->data, task->in, task->in_size);
    else
        tenant->in = task->in;
    mtask__procpool_announce(pool, number);
}

static const void *mtask__procmap_item(const mtask__procmap *map, size_t index, size_t *size) {
    const mtask_procmap_desc *desc = &map->desc;
    *size = desc->items != NULL ? desc->items[index].size : desc->in_size;
    if (desc->items != NULL)
        return desc->items[index].data;
    return desc->in == NULL ? NULL : (const char *)desc->in + index * desc->in_size;
}

/* Bytes that the items take, framed. */
static size_t mtask__procmap_bytes(const mtask__procmap *map, size_t first, size_t count) {
    size_t bytes = 0;
    for (size_t i = first; i < first + count; i++) {
        size_t size;
        (void)mtask__procmap_item(map, i, &size);
        bytes += mtask__frame_room(size);
    }
    return bytes;
}

/* Writes them. */
static void mtask__procmap_frame(const mtask__procmap *map, size_t first, size_t count, char *to) {
    for (size_t i = first; i < first + count; i++) {
        mtask__parcel frame;
        size_t size;
        const void *item = mtask__procmap_item(map, i, &size);
        memset(&frame, 0, sizeof frame);
        frame.size = size;
        memcpy(to, &frame, sizeof frame);
        if (size > 0)
            memcpy(to + sizeof frame, item, size);
        to += mtask__frame_room(size);
    }
}

/* Puts items of a map into a slot; false: no memory. */
static bool mtask__procpool_put_items(mtask_procpool *pool, mtask__procmap *map, size_t first,
                                      size_t count) {
    size_t size;
    const void *one = mtask__procmap_item(map, first, &size);
    size_t bytes = count == 1 ? size : mtask__procmap_bytes(map, first, count);
    bool fits = bytes <= MTASK_PROCPOOL_INLINE;
    char *own = NULL;
    unsigned number;
    mtask__berth *slot;
    mtask__tenant *tenant;
    if (!fits && count > 1 && (own = (char *)MTASK_MALLOC(bytes)) == NULL)
        return false;
    number = mtask__procpool_take_slot(pool);
    slot = mtask__procpool_fill(pool, number, &map->place, count == 1 ? 0 : (uint32_t)count, bytes,
                                map->desc.time_limit);
    tenant = &pool->tenants[number];
    tenant->map = map;
    tenant->first = first;
    tenant->count = count;
    tenant->own = own;
    tenant->in = own != NULL ? own : (const char *)one;
    if (count > 1)
        mtask__procmap_frame(map, first, count, fits ? (char *)slot->data : own);
    else if (fits && size > 0)
        memcpy(slot->data, one, size);
    mtask__procpool_announce(pool, number);
    return true;
}

/* The next items of a map; without memory, one. */
static void mtask__procpool_put_map(mtask_procpool *pool, mtask__procmap *map) {
    size_t left = map->desc.count - map->next;
    size_t count = left < map->desc.chunk ? left : map->desc.chunk;
    if (!mtask__procpool_put_items(pool, map, map->next, count)) {
        count = 1; /* which needs none */
        (void)mtask__procpool_put_items(pool, map, map->next, count);
    }
    map->next += count;
}

/* Puts what waits into free slots; how many. */
static unsigned mtask__procpool_refill(mtask_procpool *pool) {
    unsigned put = 0;
    unsigned room;
    if (pool->first == NULL || pool->free == MTASK__SLOTS)
        return 0;
    room = mtask__procpool_orders(pool);
    while (pool->first != NULL && pool->free != MTASK__SLOTS && put < room) {
        mtask__source *source = pool->first;
        if (source->is_map) {
            mtask__procmap *map = mtask__source_map(source);
            mtask__procpool_put_map(pool, map);
            if (map->next == map->desc.count)
                mtask__backlog_remove(pool, source);
        } else {
            mtask__backlog_remove(pool, source);
            mtask__procpool_put_task(pool, mtask__source_task(source));
            pool->waiting--;
        }
        put++;
    }
    return put;
}

/* Rings as many processes that sleep as there are new tasks. Without the lock, too. */
static void mtask__procpool_wake(mtask_procpool *pool, unsigned tasks) {
    unsigned words = (pool->workers + 31) / 32;
    for (unsigned i = 0; i < words && tasks > 0; i++) {
        mtask_word *word = &pool->table->sleepers[i];
        mtask_word asleep = mtask__fence_load(word);
        for (; asleep != 0 && tasks > 0; asleep &= asleep - 1) {
            unsigned bit = (unsigned)__builtin_ctz(asleep);
            mtask_word mask = (mtask_word)1 << bit;
            if ((__atomic_fetch_and(word, ~mask, __ATOMIC_SEQ_CST) & mask) == 0)
                continue;
            mtask__os_bell_ring(pool->crew[i * 32 + bit].bell[1]);
            tasks--;
        }
    }
}

/* Takes a slot back that nobody has taken; whether it could. */
static bool mtask__procpool_retract(mtask_procpool *pool, unsigned number) {
    mtask_word *word = &mtask__procpool_slot(pool, number)->state;
    mtask_word state = mtask_word_load(word);
    return mtask__state_kind(state) == MTASK__SLOT_READY &&
           mtask_word_cas(word, &state, MTASK__SLOT_FREE);
}

/* ---- >>procpool-end: how tasks end ---- */

/* Has the manager look at what is wanted of it. */
static void mtask__procpool_nudge(mtask_procpool *pool) {
    mtask_word_store(&pool->attention, 1); /* before the look at whether it sleeps */
    if (mtask_word_exchange(&pool->table->resting, 0) != 0)
        mtask__os_bell_ring(pool->bell[1]);
}

/* Accounts for tasks that have ended. With the pool locked. */
static void mtask__procpool_account(mtask_procpool *pool, size_t tasks) {
    pool->outstanding -= tasks;
    if (pool->waiters > 0) {
        (void)mtask_word_add(&pool->room, 1);
        mtask_word_wake(&pool->room, INT_MAX, MTASK_PRIVATE);
    }
}

static void mtask__procpool_count(mtask_procpool *pool, mtask_status status, bool canceled) {
    if (canceled)
        pool->stats.canceled++;
    else if (status == MTASK_OK)
        pool->stats.completed++;
    else
        pool->stats.failed++;
}

/* Tells those who asked for it. */
static void mtask__proctask_tell(mtask__proctask *task, const mtask_outcome *outcome) {
    if (outcome->status == MTASK_OK && task->on_success != NULL)
        task->on_success(task->result, task->result_size, task->ctx);
    if (outcome->status != MTASK_OK && task->on_failure != NULL)
        task->on_failure(outcome, task->ctx);
}

/* Ends the future; the pool's reference goes. `canceled`: it did not run, or not to its end.
   Without the lock. */
static void mtask__proctask_end(mtask__proctask *task, const mtask_outcome *outcome,
                                bool canceled) {
    mtask__proctask_tell(task, outcome);
    if (canceled)
        (void)mtask__future_cancel(&task->future);
    else
        (void)mtask__future_finish(&task->future, outcome->status, outcome->value, outcome->text);
    mtask_future_release(&task->future);
}

/* Keeps a result: in the memory of the input if it fits. False: no memory. */
static bool mtask__proctask_keep(mtask__proctask *task, const void *data, size_t size) {
    char *to = task->in;
    if (size + 1 > task->room)
        to = (char *)MTASK_MALLOC(size + 1);
    if (to == NULL)
        return false;
    if (size > 0)
        memcpy(to, data, size);
    to[size] = 0;
    task->result = to;
    task->result_size = size;
    return true;
}

/* The first failure of a map, by index. */
static void mtask__procmap_fail(mtask__procmap *map, size_t index, mtask_status status,
                                const char *text, size_t size) {
    if (map->failed_at <= index)
        return;
    map->failed_at = index;
    map->canceled = false;
    memset(&map->failure, 0, sizeof map->failure);
    map->failure.status = status;
    if (size >= sizeof map->failure.text)
        size = sizeof map->failure.text - 1;
    if (size > 0)
        memcpy(map->failure.text, text, size);
}

/* Writes the result of an item where it belongs: how the item ended. */
static mtask_status mtask__procmap_write(mtask__procmap *map, size_t index, const char *data,
                                         size_t size) {
    const mtask_procmap_desc *desc = &map->desc;
    if (desc->outs != NULL) {
        mtask__buf_clear(&desc->outs[index]);
        return mtask_buf_append(&desc->outs[index], data, size);
    }
    if (desc->out == NULL)
        return MTASK_OK;
    if (size != desc->out_size)
        return size > desc->out_size ? MTASK_OVERFLOW : MTASK_INVALID;
    if (size > 0)
        memcpy((char *)desc->out + index * size, data, size);
    return MTASK_OK;
}

static const char mtask__wrong_size[] = "its result has another size than out_size";

/* One item has ended; `data` is its result, or the text of its failure. With the map locked. */
static void mtask__procmap_end_item(mtask__procmap *map, size_t index, mtask_status status,
                                    const char *data, size_t size) {
    if (status == MTASK_OK) {
        status = mtask__procmap_write(map, index, data, size);
        if (status != MTASK_OK)
            mtask__procmap_fail(map, index, status, mtask__wrong_size, sizeof mtask__wrong_size);
    } else {
        mtask__procmap_fail(map, index, status, data, size);
    }
    if (map->desc.statuses != NULL)
        map->desc.statuses[index] = status;
}

/* Items have ended, each with its frame, or all in the same way. */
static void mtask__procmap_end(mtask__procmap *map, size_t first, size_t count,
                               const mtask_outcome *outcome, const char *data, size_t size) {
    size_t at = 0;
    mtask__lock(&map->lock);
    for (size_t i = 0; i < count && !map->abandoned; i++) {
        mtask__parcel frame;
        const char *item;
        if (outcome->status != MTASK_OK) {
            mtask__procmap_end_item(map, first + i, outcome->status, outcome->text,
                                    strlen(outcome->text));
            if (map->failed_at == first + i)
                map->canceled = data == NULL && outcome->status == MTASK_CANCELED;
        } else if (count == 1) {
            mtask__procmap_end_item(map, first, MTASK_OK, data, size);
        } else {
            item = mtask__frame_next(data, size, &at, &frame);
            if (item != NULL)
                mtask__procmap_end_item(map, first + i, (mtask_status)frame.status, item,
                                        (size_t)frame.size);
            else
                mtask__procmap_end_item(map, first + i, MTASK_BROKEN, NULL, 0);
        }
    }
    if (map->desc.progress != NULL && !map->abandoned)
        (void)mtask_word_add(map->desc.progress, (mtask_word)count);
    mtask__unlock(&map->lock);
}

/* Ends the future of a map of which nothing is left; the pool's reference goes. Without the lock.
   */
static void mtask__procmap_finish(mtask__procmap *map) {
    bool good;
    bool canceled;
    mtask__lock(&map->lock); /* who gives it up may be saying so */
    good = map->failed_at == SIZE_MAX;
    canceled = map->canceled;
    mtask__unlock(&map->lock);
    if (good)
        (void)mtask__future_finish(&map->future, MTASK_OK, NULL, "");
    else if (canceled)
        (void)mtask__future_cancel(&map->future);
    else
        (void)mtask__future_finish(&map->future, map->failure.status, NULL, map->failure.text);
    mtask_future_release(&map->future);
}

/* A tenant that is to end so, taken out of its slot. */
typedef struct mtask__leaver {
    mtask__proctask *task;
    mtask__procmap *map; /* NULL, unless it is over with this */
    bool canceled;
    mtask_outcome outcome;
} mtask__leaver;

/* Empties a slot whose tenant has ended; results have been taken. With the pool locked. */
static void mtask__procpool_evict(mtask_procpool *pool, unsigned number, mtask_status status,
                                  mtask__leaver *leaver) {
    mtask__tenant *tenant = &pool->tenants[number];
    mtask__procmap *map = tenant->map;
    leaver->task = tenant->task;
    leaver->map = NULL;
    if (tenant->task != NULL)
        tenant->task->slot = -1;
    else
        map->left -= tenant->count;
    if (map != NULL && map->left == 0)
        leaver->map = map;
    mtask__procpool_count(pool, status, leaver->canceled);
    mtask__procpool_account(pool, tenant->task != NULL);
    mtask__procpool_give_slot(pool, number);
}

/* Without the lock. */
static void mtask__leaver_end(mtask__leaver *leaver) {
    if (leaver->task != NULL)
        mtask__proctask_end(leaver->task, &leaver->outcome, leaver->canceled);
    if (leaver->map != NULL)
        mtask__procmap_finish(leaver->map);
}

/* Ends a tenant without a result. */
static void mtask__procpool_fail_slot(mtask_procpool *pool, unsigned number,
                                      const mtask_outcome *outcome) {
    const mtask__tenant *tenant = mtask__procpool_tenant(pool, number);
    mtask__leaver leaver;
    unsigned put;
    if (tenant->map != NULL)
        mtask__procmap_end(tenant->map, tenant->first, tenant->count, outcome, NULL, 0);
    leaver.outcome = *outcome;
    leaver.canceled = outcome->status == MTASK_CANCELED;
    mtask__lock(&pool->lock);
    mtask__procpool_evict(pool, number, outcome->status, &leaver);
    put = mtask__procpool_refill(pool);
    mtask__unlock(&pool->lock);
    mtask__procpool_wake(pool, put);
    mtask__leaver_end(&leaver);
}

/* Ends the items of a map that are in no slot; it has been taken out of the backlog. */
static void mtask__procmap_drop(mtask_procpool *pool, mtask__procmap *map,
                                const mtask_outcome *outcome) {
    size_t count = map->desc.count - map->next;
    bool over;
    mtask__procmap_end(map, map->next, count, outcome, NULL, 0);
    mtask__lock(&pool->lock);
    over = (map->left -= count) == 0;
    mtask__procpool_count(pool, outcome->status, outcome->status == MTASK_CANCELED);
    mtask__unlock(&pool->lock);
    if (over)
        mtask__procmap_finish(map);
}

/* Takes out all that has not begun, and ends it. */
static void mtask__procpool_drop_waiting(mtask_procpool *pool, const mtask_outcome *outcome) {
    for (;;) {
        mtask__source *source;
        mtask__lock(&pool->lock);
        source = pool->first;
        if (source != NULL)
            mtask__backlog_remove(pool, source);
        if (source != NULL && !source->is_map) {
            pool->waiting--;
            mtask__procpool_count(pool, outcome->status, outcome->status == MTASK_CANCELED);
            mtask__procpool_account(pool, 1);
        }
        mtask__unlock(&pool->lock);
        if (source == NULL)
            return;
        if (source->is_map)
            mtask__procmap_drop(pool, mtask__source_map(source), outcome);
        else
            mtask__proctask_end(mtask__source_task(source), outcome,
                                outcome->status == MTASK_CANCELED);
    }
}

/* The same with what lies READY in slots. */
static void mtask__procpool_drop_ready(mtask_procpool *pool, const mtask_outcome *outcome) {
    for (unsigned i = 0; i < mtask__load(&pool->reached, RELAXED); i++) {
        bool taken;
        mtask__lock(&pool->lock);
        taken = mtask__procpool_retract(pool, i);
        mtask__unlock(&pool->lock);
        if (taken)
            mtask__procpool_fail_slot(pool, i, outcome);
    }
}

/* ---- >>procpool-manager: the thread that looks after the processes ---- */

/* Results that have been taken out of slots, which are then freed all at once. */
# define MTASK__HARVEST 32

typedef struct mtask__harvest {
    unsigned count;
    unsigned numbers[MTASK__HARVEST];
    mtask__leaver leavers[MTASK__HARVEST];
} mtask__harvest;

static void mtask__harvest_flush(mtask_procpool *pool, mtask__harvest *harvest) {
    unsigned put;
    if (harvest->count == 0)
        return;
    mtask__lock(&pool->lock);
    for (unsigned i = 0; i < harvest->count; i++)
        mtask__procpool_evict(pool, harvest->numbers[i], harvest->leavers[i].outcome.status,
                              &harvest->leavers[i]);
    put = mtask__procpool_refill(pool);
    mtask__unlock(&pool->lock);
    mtask__procpool_wake(pool, put);
    for (unsigned i = 0; i < harvest->count; i++)
        mtask__leaver_end(&harvest->leavers[i]);
    harvest->count = 0;
}

/* Takes a result, or a text: of `size` bytes at `data`; NULL: there was no memory for it. */
static void mtask__harvest_add(mtask_procpool *pool, mtask__harvest *harvest, unsigned number,
                               mtask_status status, const char *data, size_t size) {
    const mtask__tenant *tenant = mtask__procpool_tenant(pool, number);
    mtask_outcome *outcome = &harvest->leavers[harvest->count].outcome;
    harvest->leavers[harvest->count].canceled = false;
    memset(outcome, 0, sizeof *outcome);
    if (status == MTASK_OK &&
        (data == NULL || (tenant->task != NULL && !mtask__proctask_keep(tenant->task, data, size))))
        status = MTASK_NOMEM;
    outcome->status = status;
    if (status == MTASK_OK && tenant->task != NULL)
        outcome->value = tenant->task->result;
    else if (status != MTASK_OK && data != NULL)
        memcpy(outcome->text, data, size < sizeof outcome->text ? size : sizeof outcome->text - 1);
    if (tenant->map != NULL)
        mtask__procmap_end(tenant->map, tenant->first, tenant->count, outcome, data, size);
    harvest->numbers[harvest->count++] = number;
    if (harvest->count == MTASK__HARVEST)
        mtask__harvest_flush(pool, harvest);
}

/* Moves as much as the socket has, or takes, now. Whether all has been moved. */
static bool mtask__transfer_go(mtask__transfer *transfer, int socket, bool out) {
    char scrap[4096];
    while (transfer->done < transfer->size) {
        size_t left = transfer->size - transfer->done;
        ssize_t moved;
        if (out)
            moved =
                send(socket, transfer->data + transfer->done, left, MSG_NOSIGNAL | MSG_DONTWAIT);
        else if (transfer->data != NULL)
            moved = recv(socket, transfer->data + transfer->done, left, MSG_DONTWAIT);
        else
            moved = recv(socket, scrap, left < sizeof scrap ? left : sizeof scrap, MSG_DONTWAIT);
        if (moved < 0 && errno == EINTR)
            continue;
        if (moved <= 0)
            return false;
        transfer->done += (size_t)moved;
    }
    return true;
}

static void mtask__transfer_begin(mtask__transfer *transfer, unsigned number, char *data,
                                  size_t size) {
    transfer->slot = (int)number;
    transfer->data = data;
    transfer->size = size;
    transfer->done = 0;
}

/* Goes on with a big result; whether there is none left to wait for. */
static bool mtask__crew_take(mtask_procpool *pool, mtask__crew *crew, mtask__harvest *harvest) {
    mtask__transfer *take = &crew->take;
    if (take->slot < 0)
        return true;
    if (!mtask__transfer_go(take, crew->socket, false))
        return false;
    mtask__harvest_add(pool, harvest, (unsigned)take->slot, MTASK_OK, take->data, take->size);
    MTASK_FREE(take->data);
    take->data = NULL;
    take->slot = -1;
    return true;
}

/* A slot in which a result lies. */
static void mtask__crew_done(mtask_procpool *pool, mtask__crew *crew, unsigned number,
                             mtask__harvest *harvest) {
    const mtask__berth *slot = mtask__procpool_slot(pool, number);
    size_t size;
    mtask_status status;
    (void)mtask__procpool_tenant(pool, number); /* who filled the slot has done so before */
    size = (size_t)slot->size;
    status = (mtask_status)slot->status;
    if (size <= sizeof slot->data)
        mtask__harvest_add(pool, harvest, number, status, (const char *)slot->data, size);
    else
        mtask__transfer_begin(&crew->take, number, (char *)MTASK_MALLOC(size), size);
}

/* Goes on with a big input. */
static void mtask__crew_give(mtask_procpool *pool, mtask__crew *crew, mtask__seat *seat) {
    mtask_word wanted = mtask_word_load(&seat->wants);
    mtask__transfer *give = &crew->give;
    if (wanted != 0 && wanted <= MTASK__SLOTS && give->slot < 0) {
        const mtask__tenant *tenant = mtask__procpool_tenant(pool, wanted - 1);
        mtask_word_store(&seat->wants, 0);
        mtask__transfer_begin(give, wanted - 1, (char *)(uintptr_t)tenant->in, tenant->in_size);
    }
    if (give->slot >= 0 && mtask__transfer_go(give, crew->socket, true))
        give->slot = -1;
}

/* Takes what one process has done; how many results. */
static size_t mtask__crew_collect(mtask_procpool *pool, unsigned number, mtask__harvest *harvest) {
    mtask__crew *crew = &pool->crew[number];
    mtask__seat *seat = mtask__table_seat(pool->table, number);
    size_t count = 0;
    while (mtask__crew_take(pool, crew, harvest) &&
           crew->head != mtask__load(&seat->tail, ACQUIRE)) { /* pairs with mtask__hand_finish */
        unsigned slot = mtask__load(&seat->ring[crew->head % MTASK__SLOTS], RELAXED);
        crew->head++;
        mtask__crew_done(pool, crew, slot % MTASK__SLOTS, harvest);
        count++;
    }
    mtask__crew_give(pool, crew, seat);
    if (count > 0)
        pool->misses = 0;
    return count;
}

static size_t mtask__procpool_collect(mtask_procpool *pool) {
    mtask__harvest harvest;
    size_t count = 0;
    harvest.count = 0;
    for (unsigned i = 0; i < pool->workers; i++)
        if (pool->crew[i].lives)
            count += mtask__crew_collect(pool, i, &harvest);
    mtask__harvest_flush(pool, &harvest);
    return count;
}

/* Whether there is something to collect. */
static bool mtask__procpool_has_news(mtask_procpool *pool) {
    if (mtask_word_load(&pool->attention) != 0)
        return true;
    for (unsigned i = 0; i < pool->workers; i++) {
        const mtask__crew *crew = &pool->crew[i];
        mtask__seat *seat = mtask__table_seat(pool->table, i);
        if (!crew->lives)
            continue;
        if (crew->take.slot < 0 && mtask_word_load(&seat->tail) != crew->head)
            return true;
        if (crew->give.slot < 0 && mtask_word_load(&seat->wants) != 0)
            return true;
    }
    return false;
}

/* The pool is of no use any more. */
static void mtask__procpool_break(mtask_procpool *pool, const char *text) {
    mtask__lock(&pool->lock);
    if (!pool->broken) {
        pool->broken = true;
        memset(&pool->why, 0, sizeof pool->why);
        pool->why.status = MTASK_BROKEN;
        (void)snprintf(pool->why.text, sizeof pool->why.text, "%s", text);
        (void)mtask_word_add(&pool->room, 1);
        mtask_word_wake(&pool->room, INT_MAX, MTASK_PRIVATE);
    }
    mtask__unlock(&pool->lock);
    mtask_word_store(&pool->attention, 1);
}

/* ---- >>procpool-start ---- */

/* Sets the parent's end of the socket, or closes it: processes that are forked close their copy. */
static void mtask__crew_connect(mtask_procpool *pool, mtask__crew *crew, int socket) {
    mtask__lock(&pool->lock);
    mtask__proc_shut(&crew->socket);
    crew->socket = socket;
    mtask__unlock(&pool->lock);
}

/* Starts the process of a seat. MTASK_OK, or as mtask_proc_start_ex. */
static mtask_status mtask__crew_start(mtask_procpool *pool, unsigned number) {
    mtask__crew *crew = &pool->crew[number];
    mtask__seat *seat = mtask__table_seat(pool->table, number);
    mtask__post post;
    mtask_proc_desc desc;
    mtask__start start;
    char name[MTASK_NAME_SIZE + 16];
    int fds[4];
    int ends[2];
    mtask_status status;
    if (!mtask__os_proc_pair(ends, false))
        return mtask__proc_refused();
    mtask__crew_connect(pool, crew, ends[0]);
    memset(seat, 0, sizeof *seat);
    memcpy(&post, pool->post, sizeof post);
    fds[0] = post.memory = pool->memory.fd;
    fds[1] = post.bell = crew->bell[0];
    fds[2] = post.manager = pool->bell[1];
    status = mtask__fd_lift(&ends[1]) ? MTASK_OK : MTASK_SYSTEM;
    fds[3] = post.socket = ends[1];
    post.seat = number;
    memcpy(pool->post, &post, sizeof post);
    memset(&desc, 0, sizeof desc);
    (void)snprintf(name, sizeof name, "%s-%u", pool->name, number);
    desc.call = mtask__hand_main;
    desc.in = pool->post;
    desc.in_size = sizeof post + pool->desc.init_size;
    desc.method = pool->desc.method;
    desc.name = name;
    desc.daemon = true;
    desc.cpus = pool->cpus;
    desc.cpu_count = pool->desc.cpu_count;
    desc.nice = pool->desc.nice;
    desc.fds = fds;
    desc.fd_count = 4;
    if (status == MTASK_OK)
        status = mtask__start_init(&start, &desc);
    if (status == MTASK_OK) {
        mtask__start_name(&start);
        status = mtask__start_run(&start, &crew->ticket, &crew->child);
    }
    mtask__proc_shut(&ends[1]);
    if (status != MTASK_OK) {
        mtask__crew_connect(pool, crew, -1);
        return status;
    }
    crew->head = 0;
    crew->give.slot = crew->take.slot = -1;
    mtask__lock(&pool->lock);
    crew->lives = true;
    pool->stats.started++;
    mtask__unlock(&pool->lock);
    return MTASK_OK;
}

/* Starts those that are missing. */
static void mtask__procpool_staff(mtask_procpool *pool) {
    bool some = false;
    mtask_status status = MTASK_OK;
    for (unsigned i = 0; i < pool->workers && status == MTASK_OK; i++) {
        if (!pool->crew[i].lives && (pool->again_at == 0 || mtask_now() >= pool->again_at)) {
            pool->again_at = 0;
            status = mtask__crew_start(pool, i);
        }
        some = some || pool->crew[i].lives;
    }
    if (status == MTASK_OK)
        return;
    pool->again_at = mtask_deadline(MTASK_MS(100));
    if (++pool->misses >= 20 && !some) {
        char text[MTASK_TEXT_SIZE];
        (void)snprintf(text, sizeof text, "no process can be started: %s",
                       status == MTASK_SYSTEM ? strerror(errno) : mtask_strerror(status));
        mtask__procpool_break(pool, text);
    }
}

/* What it means for the pool that a process ended in that stage. */
static void mtask__crew_judge(mtask_procpool *pool, mtask__crew *crew, const mtask__seat *seat) {
    char text[MTASK_TEXT_SIZE];
    char how[MTASK_TEXT_SIZE];
    mtask__verdict verdict;
    mtask_word stage =
        mtask__load(&seat->stage, ACQUIRE); /* pairs with the stores of its process */
    mtask__code_text(crew->child.code, how, sizeof how);
    if (stage == MTASK__SEAT_UNFIT) {
        memcpy(text, seat->text, sizeof text);
        text[sizeof text - 1] = 0;
        mtask__procpool_break(pool,
                              text[0] != 0 ? text : mtask_strerror((mtask_status)seat->status));
    } else if (stage == MTASK__SEAT_STARTING && mtask__verdict_read(crew->ticket, &verdict)) {
        verdict.text[sizeof verdict.text - 1] = 0;
        mtask__procpool_break(pool, verdict.text);
    } else if (stage == MTASK__SEAT_INIT) {
        (void)snprintf(text, sizeof text, "a process ended before its initializer did: %.60s", how);
        mtask__procpool_break(pool, text);
    } else if (stage == MTASK__SEAT_STARTING && ++pool->misses >= 20) {
        (void)snprintf(text, sizeof text, "processes end before they begin: %.60s", how);
        mtask__procpool_break(pool, text);
    }
    if (stage == MTASK__SEAT_WORKS)
        pool->misses = 0;
    if (stage != MTASK__SEAT_LEAVES && !pool->stopping) {
        mtask__lock(&pool->lock);
        pool->stats.crashed++;
        mtask__unlock(&pool->lock);
    }
}

/* Ends the tasks that a process had, after it. */
static void mtask__crew_bury_slots(mtask_procpool *pool, unsigned number) {
    mtask__crew *crew = &pool->crew[number];
    mtask__harvest harvest;
    harvest.count = 0;
    for (unsigned i = 0; i < mtask__load(&pool->reached, RELAXED); i++) {
        mtask__berth *slot = mtask__procpool_slot(pool, i);
        mtask_word state = mtask__load(&slot->state, ACQUIRE); /* pairs with its process's CAS */
        mtask_outcome outcome;
        if (mtask__state_kind(state) < MTASK__SLOT_TAKEN || mtask__state_seat(state) != number)
            continue;
        if (mtask__state_kind(state) == MTASK__SLOT_DONE && (int)i != crew->take.slot &&
            slot->size <= sizeof slot->data) { /* it was killed before it could tell */
            mtask__crew_done(pool, crew, i, &harvest);
            mtask__harvest_flush(pool, &harvest);
            continue;
        }
        memset(&outcome, 0, sizeof outcome);
        outcome.status = MTASK_CRASHED;
        mtask__code_text(crew->child.code, outcome.text, sizeof outcome.text);
        if (mtask__state_kind(state) == MTASK__SLOT_EXPIRED) {
            outcome.status =
                (mtask_status)mtask__load(&mtask__procpool_tenant(pool, i)->verdict, RELAXED);
            (void)snprintf(outcome.text, sizeof outcome.text, "%s",
                           outcome.status == MTASK_TIMEOUT ? "it took longer than its limit"
                                                           : "its pool was terminated");
        }
        mtask__procpool_fail_slot(pool, i, &outcome);
    }
}

/* A process has ended: takes what it still has done, ends what it was doing, and frees its seat. */
static void mtask__crew_bury(mtask_procpool *pool, unsigned number) {
    mtask__crew *crew = &pool->crew[number];
    mtask__table *table = pool->table;
    mtask__harvest harvest;
    harvest.count = 0;
    (void)mtask__crew_collect(pool, number, &harvest);
    mtask__harvest_flush(pool, &harvest);
    mtask__crew_judge(pool, crew, mtask__table_seat(table, number));
    mtask__crew_bury_slots(pool, number);
    MTASK_FREE(crew->take.data);
    crew->take.data = NULL;
    crew->take.slot = crew->give.slot = -1;
    (void)__atomic_fetch_and(&table->sleepers[number / 32], ~((mtask_word)1 << number % 32),
                             __ATOMIC_SEQ_CST);
    mtask__crew_connect(pool, crew, -1);
    mtask__lock(&pool->lock);
    crew->lives = false;
    mtask__unlock(&pool->lock);
    mtask__proc_shut(&crew->ticket);
    mtask__child_deinit(&crew->child);
    /* it may have been rung for a task that it did not take any more */
    if (mtask_word_load(&table->claim) != mtask_word_load(&table->ready))
        mtask__procpool_wake(pool, 1);
}

/* Looks after those that have ended. */
static void mtask__procpool_reap(mtask_procpool *pool) {
    for (unsigned i = 0; i < pool->workers; i++)
        if (pool->crew[i].lives && mtask__child_ended(&pool->crew[i].child))
            mtask__crew_bury(pool, i);
}

/* ---- >>procpool-limits ---- */

/* Whether a task has taken too long; else *left is how long it still may, if it has a limit. */
static bool mtask__crew_is_late(mtask_procpool *pool, unsigned number, mtask_word now,
                                int64_t *left) {
    mtask_word task = mtask__load(&mtask__table_seat(pool->table, number)->task, ACQUIRE);
    mtask__tenant *tenant;
    mtask__berth *slot;
    mtask_word state;
    mtask_word began;
    int64_t took;
    if (task == 0 || task > MTASK__SLOTS) /* acquire: pairs with the store in mtask__hand_work */
        return false;
    slot = mtask__procpool_slot(pool, task - 1);
    state = mtask_word_load(&slot->state);
    began = mtask__load(&slot->began, RELAXED);
    if (mtask__state_kind(state) != MTASK__SLOT_TAKEN || mtask__state_seat(state) != number ||
        began == 0)
        return false;
    tenant = mtask__procpool_tenant(pool, task - 1);
    if (tenant->limit <= 0)
        return false;
    took = ((int64_t)(int32_t)(now - began) - 1) * 1000000; /* both were rounded down */
    if (took < tenant->limit) {
        *left = tenant->limit - took < *left ? tenant->limit - took : *left;
        return false;
    }
    mtask__store(&tenant->verdict, MTASK_TIMEOUT, RELAXED); /* for whoever finds it EXPIRED */
    return mtask_word_cas(&slot->state, &state, mtask__state_as(state, MTASK__SLOT_EXPIRED));
}

/* Kills processes whose task has taken too long. How long to sleep until the next may have: one
   that begins meanwhile takes at least as long as the shortest limit there is. */
static int64_t mtask__procpool_expire(mtask_procpool *pool) {
    int64_t left;
    mtask_word now;
    mtask__lock(&pool->lock);
    left = pool->used > 0 ? pool->shortest : MTASK_FOREVER;
    mtask__unlock(&pool->lock);
    if (left == MTASK_FOREVER)
        return MTASK_FOREVER;
    now = mtask__milliseconds();
    for (unsigned i = 0; i < pool->workers; i++)
        if (pool->crew[i].lives && !mtask__child_has_ended(&pool->crew[i].child) &&
            mtask__crew_is_late(pool, i, now, &left))
            (void)mtask__child_signal(&pool->crew[i].child, SIGKILL, false);
    return left;
}

/* ---- >>procpool-manage ---- */

static void mtask__procpool_signal(mtask_procpool *pool, int number) {
    for (unsigned i = 0; i < pool->workers; i++)
        if (pool->crew[i].lives)
            (void)mtask__child_signal(&pool->crew[i].child, number, false);
}

/* Kills the processes whose tasks nobody wants any more. */
static void mtask__procpool_purge(mtask_procpool *pool) {
    for (unsigned i = 0; i < mtask__load(&pool->reached, RELAXED); i++) {
        mtask_word state = mtask_word_load(&mtask__procpool_slot(pool, i)->state);
        if (mtask__state_kind(state) == MTASK__SLOT_EXPIRED &&
            pool->crew[mtask__state_seat(state)].lives)
            (void)mtask__child_signal(&pool->crew[mtask__state_seat(state)].child, SIGKILL, false);
    }
}

/* Has the processes end when nothing is left to do. */
static void mtask__procpool_stop(mtask_procpool *pool) {
    if (pool->stopping)
        return;
    pool->stopping = true;
    mtask_word_store(&pool->table->stop, 1);
    for (unsigned i = 0; i < pool->workers; i++)
        mtask__os_bell_ring(pool->crew[i].bell[1]);
}

/* Ends all at once: nothing begins any more, and what runs will be killed. */
static void mtask__procpool_abort(mtask_procpool *pool, const mtask_outcome *outcome) {
    mtask__procpool_drop_waiting(pool, outcome);
    mtask__procpool_drop_ready(pool, outcome);
    for (unsigned i = 0; i < mtask__load(&pool->reached, RELAXED); i++) {
        mtask__berth *slot = mtask__procpool_slot(pool, i);
        mtask_word state = mtask_word_load(&slot->state);
        if (mtask__state_kind(state) != MTASK__SLOT_TAKEN)
            continue;
        mtask__store(&pool->tenants[i].verdict, (mtask_word)outcome->status, RELAXED);
        (void)mtask_word_cas(&slot->state, &state, mtask__state_as(state, MTASK__SLOT_EXPIRED));
    }
    mtask__procpool_stop(pool);
    mtask__procpool_signal(pool, SIGTERM);
    pool->kill_at = mtask_deadline(MTASK_MS(200));
}

/* Does what is wanted of it. Whether all is over. */
static bool mtask__procpool_tend(mtask_procpool *pool) {
    mtask_outcome outcome;
    bool aborts;
    bool purge;
    bool done;
    bool lives = false;
    mtask_word_store(&pool->attention, 0); /* before the look at what is wanted */
    memset(&outcome, 0, sizeof outcome);
    outcome.status = MTASK_CANCELED;
    mtask__lock(&pool->lock);
    aborts = pool->terminated || pool->broken;
    purge = pool->purge;
    pool->purge = false;
    done = pool->closed && pool->first == NULL && pool->used == 0;
    if (pool->broken)
        outcome = pool->why;
    mtask__unlock(&pool->lock);
    if (purge)
        mtask__procpool_purge(pool);
    if (aborts && pool->kill_at == 0)
        mtask__procpool_abort(pool, &outcome);
    if (pool->kill_at != 0 && mtask_now() >= pool->kill_at)
        mtask__procpool_signal(pool, SIGKILL);
    if (done)
        mtask__procpool_stop(pool);
    if (!pool->stopping)
        mtask__procpool_staff(pool);
    for (unsigned i = 0; i < pool->workers; i++)
        lives = lives || pool->crew[i].lives;
    return pool->stopping && !lives;
}

/* How long the manager may sleep, in milliseconds; -1: until it is woken. */
static int mtask__procpool_pause(mtask_procpool *pool, int64_t left, bool blind) {
    if (pool->kill_at != 0)
        left = left < MTASK_MS(20) ? left : MTASK_MS(20);
    if (pool->again_at != 0)
        left = left < MTASK_MS(100) ? left : MTASK_MS(100);
    if (blind) /* nothing tells of the end of some process */
        left = left < MTASK_MS(20) ? left : MTASK_MS(20);
    if (left == MTASK_FOREVER)
        return -1;
    left = (left + 999999) / 1000000;
    return left > 60000 ? 60000 : (int)left;
}

/* What the manager sleeps on: how many; *blind: nothing tells of the end of some process. */
static nfds_t mtask__procpool_watch(mtask_procpool *pool, bool *blind) {
    struct pollfd *polled = pool->polled;
    nfds_t count = 0;
    *blind = false;
    polled[count].fd = pool->bell[0];
    polled[count++].events = POLLIN;
    for (unsigned i = 0; i < pool->workers; i++) {
        mtask__crew *crew = &pool->crew[i];
        if (!crew->lives)
            continue;
        polled[count].fd = mtask__child_fd(&crew->child, false);
        *blind = *blind || polled[count].fd < 0;
        polled[count++].events = POLLIN;
        polled[count].fd = crew->give.slot >= 0 || crew->take.slot >= 0 ? crew->socket : -1;
        polled[count].events =
            (short)((crew->take.slot >= 0 ? POLLIN : 0) | (crew->give.slot >= 0 ? POLLOUT : 0));
        count++;
    }
    return count;
}

/* Sleeps in poll. */
static void mtask__procpool_poll(mtask_procpool *pool, int64_t left) {
    bool look;
    nfds_t count = mtask__procpool_watch(pool, &look);
    int ready = poll(pool->polled, count, mtask__procpool_pause(pool, left, look));
    if (ready > 0 && (pool->polled[0].revents & POLLIN) != 0)
        mtask__os_bell_clear(pool->bell[0]);
    for (nfds_t i = 1; i < count && ready > 0; i++)
        look = look || pool->polled[i].revents != 0;
    pool->passes = 0;
    if (look)
        mtask__procpool_reap(pool);
}

# define MTASK__MANY     16 /* results at a time from which on it does not wait for a bell */
# define MTASK__MANY_NAP MTASK_US(50)
# define MTASK__PASSES   256 /* without a poll until it looks after processes that have ended */

/* Waits for more to do. While results come thick and fast, it naps without asking to be rung, which
   would cost each result a system call. */
static void mtask__procpool_rest(mtask_procpool *pool, size_t moved) {
    int64_t left = mtask__procpool_expire(pool);
    if (++pool->passes >= MTASK__PASSES) {
        pool->passes = 0;
        mtask__procpool_reap(pool);
    }
    if (moved >= MTASK__MANY) {
        (void)mtask_sleep(MTASK__MANY_NAP);
        return;
    }
    mtask_word_store(&pool->table->resting, 1);
    mtask__fence(); /* before the look at the rings; pairs with that in mtask__hand_ring */
    if (!mtask__procpool_has_news(pool))
        mtask__procpool_poll(pool, left);
    mtask_word_store(&pool->table->resting, 0);
}

static void *mtask__procpool_manage(void *arg) {
    mtask_procpool *pool = (mtask_procpool *)arg;
    for (;;) {
        size_t moved = mtask__procpool_collect(pool);
        if (mtask__procpool_tend(pool))
            break;
        mtask__procpool_rest(pool, moved);
    }
    mtask_word_store(&pool->ended, 1);
    mtask_word_wake(&pool->ended, INT_MAX, MTASK_PRIVATE);
    return NULL;
}

/* ---- >>procpool ---- */

static void mtask__procpool_free(mtask_procpool *pool) {
    for (unsigned i = 0; i < pool->workers && pool->crew != NULL; i++) {
        mtask__crew *crew = &pool->crew[i];
        mtask__proc_shut(&crew->socket);
        mtask__proc_shut(&crew->ticket);
        mtask__child_deinit(&crew->child);
        mtask__os_bell_close(crew->bell);
    }
    mtask__os_bell_close(pool->bell);
    if (pool->memory.data != NULL)
        (void)mtask_shm_close(&pool->memory);
    MTASK_FREE(pool->post);
    MTASK_FREE(pool->cpus);
    MTASK_FREE(pool->crew);
    MTASK_FREE(pool->polled);
    MTASK_FREE(pool);
}

/* A bell that stays clear of the standard descriptors. */
static bool mtask__procpool_bell(int bell[2]) {
    bool same;
    if (!mtask__os_bell_open(bell)) {
        bell[0] = bell[1] = -1;
        return false;
    }
    same = bell[0] == bell[1];
    if (!mtask__fd_lift(&bell[0]) || (!same && !mtask__fd_lift(&bell[1])))
        return false;
    bell[1] = same ? bell[0] : bell[1];
    return true;
}

static mtask_status mtask__procpool_crew(mtask_procpool *pool) {
    size_t size = pool->workers * sizeof *pool->crew;
    pool->crew = (mtask__crew *)MTASK_MALLOC(size);
    pool->polled =
        (struct pollfd *)MTASK_MALLOC((1 + 2 * (size_t)pool->workers) * sizeof *pool->polled);
    if (pool->crew == NULL || pool->polled == NULL) {
        MTASK_FREE(pool->crew);
        pool->crew = NULL;
        return MTASK_NOMEM;
    }
    memset(pool->crew, 0, size);
    for (unsigned i = 0; i < pool->workers; i++) {
        mtask__crew *crew = &pool->crew[i];
        mtask__child_init(&crew->child, 0);
        crew->ticket = crew->socket = crew->bell[0] = crew->bell[1] = -1;
        crew->give.slot = crew->take.slot = -1;
    }
    for (unsigned i = 0; i < pool->workers; i++)
        if (!mtask__procpool_bell(pool->crew[i].bell))
            return MTASK_SYSTEM;
    return mtask__procpool_bell(pool->bell) ? MTASK_OK : MTASK_SYSTEM;
}

/* Where a function is for the pool's processes. */
static mtask_status mtask__procpool_place(const mtask_procpool *pool, mtask_bytes_fn fn,
                                          mtask__place *place) {
    uintptr_t address;
    memcpy(&address, &fn, sizeof address);
    if (pool->desc.method != MTASK_PROC_FORK)
        return mtask__place_of(address, place) ? MTASK_OK : MTASK_NOT_FOUND;
    place->module = 0;
    place->offset = address;
    return MTASK_OK;
}

/* What the description says, copied. */
static mtask_status mtask__procpool_copy(mtask_procpool *pool) {
    const mtask_procpool_desc *desc = &pool->desc;
    mtask__post post;
    mtask_status status = MTASK_OK;
    memset(&post, 0, sizeof post);
    if (desc->init != NULL)
        status = mtask__procpool_place(pool, desc->init, &pool->init);
    post.init = pool->init;
    post.init_size = desc->init_size;
    post.max_tasks = desc->max_tasks;
    pool->post = (char *)MTASK_MALLOC(sizeof post + desc->init_size);
    if (desc->cpu_count > 0)
        pool->cpus = (unsigned *)MTASK_MALLOC(desc->cpu_count * sizeof *pool->cpus);
    if (pool->post == NULL || (desc->cpu_count > 0 && pool->cpus == NULL))
        return MTASK_NOMEM;
    memcpy(pool->post, &post, sizeof post);
    if (desc->init_size > 0)
        memcpy(pool->post + sizeof post, desc->init_in, desc->init_size);
    if (desc->cpu_count > 0)
        memcpy(pool->cpus, desc->cpus, desc->cpu_count * sizeof *pool->cpus);
    return status;
}

static mtask_status mtask__procpool_memory(mtask_procpool *pool) {
    mtask_status status = mtask_shm_create(
        &pool->memory, NULL, sizeof(mtask__table) + pool->workers * sizeof(mtask__seat));
    if (status != MTASK_OK)
        return status;
    if (!mtask__fd_lift(&pool->memory.fd))
        return MTASK_SYSTEM;
    pool->table = (mtask__table *)pool->memory.data;
    for (unsigned i = 0; i < MTASK__SLOTS; i++)
        pool->tenants[i].next = i + 1;
    return MTASK_OK;
}

/* Ends the processes of a pool that has no manager. */
static void mtask__procpool_kill(mtask_procpool *pool) {
    mtask__procpool_signal(pool, SIGKILL);
    for (unsigned i = 0; i < pool->workers; i++)
        if (pool->crew[i].lives)
            mtask__child_await_end(&pool->crew[i].child);
}

/* Into the process's list, and out of it. */
static void mtask__procpool_link(mtask_procpool *pool) {
    mtask__proc_state *state = mtask__proc_me();
    mtask__lock(&state->lock);
    pool->next = state->pools;
    state->pools = pool;
    mtask__unlock(&state->lock);
}

static void mtask__procpool_unlink(mtask_procpool *pool) {
    mtask__proc_state *state = mtask__proc_me();
    mtask_procpool **link;
    mtask__lock(&state->lock);
    for (link = &state->pools; *link != NULL && *link != pool; link = &(*link)->next)
        continue;
    if (*link == pool)
        *link = pool->next;
    mtask__unlock(&state->lock);
}

static mtask_status mtask__procpool_begin(mtask_procpool *pool) {
    mtask_thread_desc desc;
    mtask_status status = mtask__procpool_copy(pool);
    if (status == MTASK_OK)
        status = mtask__procpool_memory(pool);
    if (status == MTASK_OK)
        status = mtask__procpool_crew(pool);
    if (status == MTASK_OK)
        mtask__procpool_link(pool);
    for (unsigned i = 0; i < pool->workers && status == MTASK_OK; i++)
        status = mtask__crew_start(pool, i);
    memset(&desc, 0, sizeof desc);
    desc.fn = mtask__procpool_manage;
    desc.arg = pool;
    desc.name = pool->name;
    desc.daemon = true;
    if (status == MTASK_OK)
        status = mtask_thread_start_ex(&pool->manager, &desc);
    if (status != MTASK_OK && pool->crew != NULL)
        mtask__procpool_kill(pool);
    if (status != MTASK_OK)
        mtask__procpool_unlink(pool);
    if (status == MTASK_OK) /* relaxed: only its own callbacks compare with it, later */
        pool->manager_id = mtask_thread_id(&pool->manager);
    return status;
}

static mtask_procpool_desc mtask__procpool_usual; /* all zero */

static bool mtask__procpool_desc_fits(const mtask_procpool_desc *desc) {
    return desc->workers <= MTASK__SEATS && desc->time_limit >= 0 &&
           (desc->cpus == NULL) == (desc->cpu_count == 0) &&
           (desc->init_in != NULL || desc->init_size == 0) &&
           (desc->init != NULL || desc->init_size == 0) && desc->method >= MTASK_PROC_DEFAULT &&
           desc->method <= MTASK_PROC_FORKSERVER;
}

static void mtask__procpool_name(mtask_procpool *pool) {
    mtask__proc_state *state = mtask__proc_me();
    static const char usual[] = "ProcPool";
    unsigned number;
    if (pool->desc.name != NULL) {
        mtask__name_copy(pool->name, pool->desc.name);
        return;
    }
    mtask__lock(&state->lock);
    number = ++state->pool_names;
    mtask__unlock(&state->lock);
    (void)snprintf(pool->name, sizeof pool->name, "%s-%u", usual, number);
}

MTASK_API mtask_status mtask_procpool_create(mtask_procpool **pool,
                                             const mtask_procpool_desc *desc) {
    mtask_procpool *made;
    mtask_status status;
    if (pool == NULL)
        return MTASK_INVALID;
    *pool = NULL;
    desc = desc != NULL ? desc : &mtask__procpool_usual;
    if (!mtask__procpool_desc_fits(desc))
        return MTASK_INVALID;
    made = (mtask_procpool *)MTASK_MALLOC(sizeof *made);
    if (made == NULL)
        return MTASK_NOMEM;
    memset(made, 0, sizeof *made);
    made->desc = *desc;
    made->nonce = mtask__nonce();
    made->workers = desc->workers > 0 ? desc->workers : mtask_cpu_count();
    made->workers = made->workers > MTASK__SEATS ? MTASK__SEATS : made->workers;
    made->shortest = MTASK_FOREVER;
    made->bell[0] = made->bell[1] = -1;
    if (desc->method == MTASK_PROC_DEFAULT)
        made->desc.method = mtask_proc_get_method();
    mtask__procpool_name(made);
    status = mtask__procpool_begin(made);
    if (status != MTASK_OK) {
        mtask__procpool_free(made);
        return status;
    }
    *pool = made;
    return MTASK_OK;
}

/* Whether it is the pool of the parent of this process. */
static bool mtask__procpool_is_lost(const mtask_procpool *pool) {
    return pool->nonce != mtask__nonce();
}

MTASK_API size_t mtask_procpool_pids(mtask_procpool *pool, pid_t *pids, size_t capacity) {
    size_t count = 0;
    mtask__lock(&pool->lock);
    for (unsigned i = 0; i < pool->workers; i++)
        if (pool->crew[i].lives) {
            if (pids != NULL && count < capacity)
                pids[count] = pool->crew[i].child.pid;
            count++;
        }
    mtask__unlock(&pool->lock);
    return count;
}

/* ---- >>procpool-submit ---- */

static void mtask__proctask_free(mtask_future *future) {
    mtask__proctask *task = mtask__proctask_of(future);
    if (task->result != task->in)
        MTASK_FREE(task->result);
    MTASK_FREE(task);
}

static bool mtask__proctask_is_lost(const mtask_future *future) {
    return ((const mtask__proctask *)(const void *)future)->nonce != mtask__nonce();
}

static bool mtask__procpool_pending(const mtask_future *future) {
    mtask_word word = mtask__load(&future->word, ACQUIRE); /* pairs with the moves of the future */
    return (word & MTASK__FUTURE_STATE) == MTASK__FUTURE_PENDING;
}

/* Takes a task out of the backlog, or of its slot, if no process has begun it. With the pool
   locked. */
static bool mtask__proctask_take_out(mtask_procpool *pool, mtask__proctask *task) {
    mtask__leaver leaver;
    if (task->source.queued) {
        mtask__backlog_remove(pool, &task->source);
        pool->waiting--;
        mtask__procpool_count(pool, MTASK_CANCELED, true);
        mtask__procpool_account(pool, 1);
        return true;
    }
    if (task->slot < 0 || !mtask__procpool_retract(pool, (unsigned)task->slot))
        return false;
    leaver.canceled = true;
    mtask__procpool_evict(pool, (unsigned)task->slot, MTASK_CANCELED, &leaver);
    return true;
}

/* While a future is pending its pool lives: that is looked at under the lock which the end of a
   pool takes. */
static mtask_status mtask__proctask_cancel(mtask_future *future) {
    mtask__proc_state *state = mtask__proc_me();
    mtask__proctask *task = mtask__proctask_of(future);
    mtask_procpool *pool;
    bool taken = false;
    unsigned put = 0;
    mtask__lock(&state->lock);
    pool = task->pool;
    if (pool != NULL && mtask__procpool_pending(future) && !mtask__proctask_is_lost(future)) {
        mtask__lock(&pool->lock);
        taken = mtask__proctask_take_out(pool, task);
        task->pool = taken ? NULL : pool; /* which may be gone before the future has ended */
        put = taken ? mtask__procpool_refill(pool) : 0;
        mtask__unlock(&pool->lock);
        if (taken) {
            mtask__procpool_wake(pool, put);
            mtask__procpool_nudge(pool); /* it may have been the last one of a closed pool */
        }
    }
    mtask__unlock(&state->lock);
    if (taken) {
        mtask_outcome outcome;
        memset(&outcome, 0, sizeof outcome);
        outcome.status = MTASK_CANCELED;
        mtask__proctask_end(task, &outcome, true);
    }
    return mtask_future_canceled(future) ? MTASK_OK : MTASK_INVALID;
}

/* Whether a process has begun it. */
static bool mtask__proctask_runs(const mtask_future *future) {
    mtask__proc_state *state = mtask__proc_me();
    const mtask__proctask *task = (const mtask__proctask *)(const void *)future;
    bool runs = false;
    mtask__lock(&state->lock);
    if (task->pool != NULL && mtask__procpool_pending(future) && !mtask__proctask_is_lost(future)) {
        mtask__lock(&task->pool->lock);
        runs = !task->source.queued &&
               (task->slot < 0 ||
                mtask__state_kind(mtask_word_load(
                    &mtask__procpool_slot(task->pool, (unsigned)task->slot)->state)) !=
                    MTASK__SLOT_READY);
        mtask__unlock(&task->pool->lock);
    }
    mtask__unlock(&state->lock);
    return runs;
}

static const mtask__future_kind mtask__proctask_kind = {
    mtask__proctask_free, mtask__proctask_cancel, mtask__proctask_is_lost, NULL, false, NULL,
    mtask__proctask_runs};

/* Whether the pool takes tasks. With the pool locked. */
static mtask_status mtask__procpool_open(const mtask_procpool *pool) {
    if (pool->broken)
        return MTASK_BROKEN;
    return pool->closed ? MTASK_CLOSED : MTASK_OK;
}

/* Waits for room in the backlog. With the pool locked, which it is afterwards, too. */
static mtask_status mtask__procpool_wait_room(mtask_procpool *pool, int64_t deadline) {
    mtask_status status = mtask__procpool_open(pool);
    while (status == MTASK_OK && pool->desc.backlog > 0 &&
           pool->outstanding >= pool->desc.backlog) {
        mtask_word seen = mtask_word_load(&pool->room);
        if (deadline == 0)
            return MTASK_FULL;
        if (mtask_task_id() == pool->manager_id)
            return MTASK_DEADLOCK;
        pool->waiters++;
        mtask__unlock(&pool->lock);
        status = mtask_word_wait(&pool->room, seen, mtask_until(deadline), MTASK_PRIVATE);
        mtask__lock(&pool->lock);
        pool->waiters--;
        if (status == MTASK_TIMEOUT)
            status = MTASK_FULL;
        else if (status == MTASK_OK)
            status = mtask__procpool_open(pool);
    }
    return status;
}

static mtask__proctask *mtask__proctask_new(mtask_procpool *pool, const void *in, size_t size) {
    size_t room = size < 48 ? 48 : size;
    mtask__proctask *task;
    if (size > SIZE_MAX / 2)
        return NULL;
    task = (mtask__proctask *)MTASK_MALLOC(sizeof *task + room);
    if (task == NULL)
        return NULL;
    memset(task, 0, sizeof *task);
    mtask__future_init(&task->future, 2);
    task->future.kind = &mtask__proctask_kind;
    task->pool = pool;
    task->nonce = pool->nonce;
    task->slot = -1;
    task->in_size = size;
    task->room = room;
    task->in = (char *)(task + 1);
    if (size > 0)
        memcpy(task->in, in, size);
    return task;
}

/* Submits a task that has been made; it is freed on failure. */
static mtask_status mtask__procpool_enqueue(mtask_procpool *pool, mtask__proctask *task,
                                            int64_t deadline) {
    bool timed = task->limit > 0; /* it may have ended and be gone soon */
    mtask_status status;
    unsigned put = 0;
    mtask__lock(&pool->lock);
    status = mtask__procpool_wait_room(pool, deadline);
    if (status == MTASK_OK) {
        pool->outstanding++;
        pool->waiting++;
        mtask__backlog_append(pool, &task->source);
        put = mtask__procpool_refill(pool);
    }
    mtask__unlock(&pool->lock);
    mtask__procpool_wake(pool, put);
    if (status == MTASK_OK && timed)
        mtask__procpool_nudge(pool);
    return status;
}

static mtask_status mtask__procpool_add(mtask_procpool *pool, const mtask_proctask_desc *desc,
                                        uint32_t items, mtask_future **future, int64_t timeout) {
    mtask__proctask *task;
    mtask__place place;
    int64_t deadline;
    mtask_status status;
    if (future != NULL)
        *future = NULL;
    if (pool == NULL || desc == NULL || desc->fn == NULL ||
        (desc->in == NULL && desc->in_size > 0) || desc->time_limit < 0)
        return MTASK_INVALID;
    if (mtask__procpool_is_lost(pool))
        return MTASK_BROKEN;
    status = mtask__deadline(timeout, &deadline);
    if (status == MTASK_OK)
        status = mtask__procpool_place(pool, desc->fn, &place);
    if (status != MTASK_OK)
        return status;
    task = mtask__proctask_new(pool, desc->in, desc->in_size);
    if (task == NULL)
        return MTASK_NOMEM;
    task->place = place;
    task->items = items;
    task->limit = desc->time_limit > 0 ? desc->time_limit : pool->desc.time_limit;
    task->on_success = desc->on_success;
    task->on_failure = desc->on_failure;
    task->ctx = desc->ctx;
    if (future == NULL)
        task->future.references = 1; /* nobody else knows it yet */
    status = mtask__procpool_enqueue(pool, task, deadline);
    if (status != MTASK_OK)
        mtask__proctask_free(&task->future);
    else if (future != NULL)
        *future = &task->future;
    return status;
}

MTASK_API mtask_status mtask_procpool_submit_ex(mtask_procpool *pool,
                                                const mtask_proctask_desc *desc,
                                                mtask_future **future, int64_t timeout) {
    return mtask__procpool_add(pool, desc, 0, future, timeout);
}

MTASK_API mtask_status mtask_procpool_submit(mtask_procpool *pool, mtask_bytes_fn fn,
                                             const void *in, size_t size, mtask_future **future) {
    mtask_proctask_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.fn = fn;
    desc.in = in;
    desc.in_size = size;
    return mtask__procpool_add(pool, &desc, 0, future,
                               pool != NULL && pool->desc.reject ? MTASK_NOWAIT : MTASK_FOREVER);
}

MTASK_API const void *mtask_future_bytes(const mtask_future *future, size_t *size) {
    const mtask__proctask *task = (const mtask__proctask *)(const void *)future;
    if (size != NULL)
        *size = 0;
    if (future == NULL || future->kind != &mtask__proctask_kind || !mtask_future_done(future) ||
        future->status != MTASK_OK || mtask_future_canceled(future))
        return NULL;
    if (size != NULL)
        *size = task->result_size;
    return task->result;
}

MTASK_API mtask_status mtask_procpool_call(mtask_procpool *pool, mtask_bytes_fn fn, const void *in,
                                           size_t size, mtask_buf *out, mtask_outcome *outcome,
                                           int64_t timeout) {
    mtask_proctask_desc desc;
    mtask_future *future;
    int64_t deadline;
    mtask_status status = mtask__deadline(timeout, &deadline);
    if (status != MTASK_OK)
        return status;
    if (pool != NULL && mtask_task_id() == pool->manager_id)
        return MTASK_DEADLOCK;
    memset(&desc, 0, sizeof desc);
    desc.fn = fn;
    desc.in = in;
    desc.in_size = size;
    status = mtask__procpool_add(pool, &desc, 0, &future, mtask_until(deadline));
    if (status != MTASK_OK)
        return status;
    status = mtask_future_get(future, outcome, mtask_until(deadline));
    if (!mtask_future_done(future))
        (void)mtask_future_cancel(future);
    if (status == MTASK_OK && out != NULL) {
        const void *data = mtask_future_bytes(future, &size);
        status = mtask_buf_append(out, data, size);
    }
    if (outcome != NULL && status == MTASK_OK)
        outcome->value = NULL; /* it goes with the future */
    mtask_future_release(future);
    return status;
}

/* ---- >>procpool-map ---- */

static void mtask__procmap_free(mtask_future *future) {
    MTASK_FREE(mtask__procmap_of(future));
}

static bool mtask__procmap_is_lost(const mtask_future *future) {
    return ((const mtask__procmap *)(const void *)future)->nonce != mtask__nonce();
}

/* Takes out what no process has begun; how many items. With the pool locked. */
static size_t mtask__procmap_take_out(mtask_procpool *pool, mtask__procmap *map) {
    size_t taken = 0;
    if (map->source.queued) {
        mtask__backlog_remove(pool, &map->source);
        taken = map->desc.count - map->next;
    }
    for (unsigned i = 0; i < mtask__load(&pool->reached, RELAXED); i++) {
        if (pool->tenants[i].map != map || !mtask__procpool_retract(pool, i))
            continue;
        taken += pool->tenants[i].count;
        mtask__procpool_give_slot(pool, i);
    }
    return taken;
}

/* Whether no process has begun any of it. With the pool locked. */
static bool mtask__procmap_is_fresh(mtask_procpool *pool, const mtask__procmap *map) {
    size_t untouched = map->desc.count - map->next;
    for (unsigned i = 0; i < mtask__load(&pool->reached, RELAXED); i++)
        if (pool->tenants[i].map == map &&
            mtask__state_kind(mtask_word_load(&mtask__procpool_slot(pool, i)->state)) ==
                MTASK__SLOT_READY)
            untouched += pool->tenants[i].count;
    return untouched == map->desc.count;
}

/* Has what processes have begun of it end with them. With the pool locked. */
static void mtask__procmap_expire(mtask_procpool *pool, const mtask__procmap *map) {
    for (unsigned i = 0; i < mtask__load(&pool->reached, RELAXED); i++) {
        mtask_word *word = &mtask__procpool_slot(pool, i)->state;
        mtask_word state = mtask_word_load(word);
        if (pool->tenants[i].map != map || mtask__state_kind(state) != MTASK__SLOT_TAKEN)
            continue;
        mtask__store(&pool->tenants[i].verdict, MTASK_CANCELED,
                     RELAXED); /* for whoever finds it EXPIRED */
        if (mtask_word_cas(word, &state, mtask__state_as(state, MTASK__SLOT_EXPIRED)))
            pool->purge = true;
    }
}

/* Ends it: has no more of it begin, and unless `only_fresh`, which asks that nothing has begun,
   ends what has. Whether nothing of it is left. */
static bool mtask__procmap_abandon(mtask_procpool *pool, mtask__procmap *map, bool only_fresh) {
    bool over = false;
    unsigned put;
    mtask__lock(&pool->lock);
    if (only_fresh && !mtask__procmap_is_fresh(pool, map)) {
        mtask__unlock(&pool->lock);
        return false;
    }
    over = map->left > 0 && (map->left -= mtask__procmap_take_out(pool, map)) == 0;
    mtask__procmap_expire(pool, map);
    mtask__procpool_count(pool, MTASK_CANCELED, true);
    put = mtask__procpool_refill(pool);
    mtask__unlock(&pool->lock);
    mtask__procpool_wake(pool, put);
    mtask__procpool_nudge(pool);
    mtask__lock(&map->lock);
    map->abandoned = true;
    map->canceled = true;
    map->failed_at = 0;
    memset(&map->failure, 0, sizeof map->failure);
    map->failure.status = MTASK_CANCELED;
    mtask__unlock(&map->lock);
    return over;
}

/* The caller of a map that it does not want any more waits until nobody uses its arrays. */
static void mtask__procmap_wait_end(mtask_procpool *pool, mtask__procmap *map) {
    if (mtask__procmap_abandon(pool, map, false))
        mtask__procmap_finish(map);
    mtask_shield_begin();
    while (mtask_future_wait(&map->future, MTASK_FOREVER) != MTASK_OK)
        mtask__yield();
    mtask_shield_end();
}

static mtask_status mtask__procmap_cancel(mtask_future *future) {
    mtask__proc_state *state = mtask__proc_me();
    mtask__procmap *map = mtask__procmap_of(future);
    bool over = false;
    mtask__lock(&state->lock);
    if (map->pool != NULL && mtask__procpool_pending(future) && !mtask__procmap_is_lost(future))
        over = mtask__procmap_abandon(map->pool, map, true);
    if (over)
        map->pool = NULL; /* it may be gone before the future has ended */
    mtask__unlock(&state->lock);
    if (over)
        mtask__procmap_finish(map);
    return mtask_future_canceled(future) ? MTASK_OK : MTASK_INVALID;
}

/* Whether a process has begun some of it. */
static bool mtask__procmap_runs(const mtask_future *future) {
    mtask__proc_state *state = mtask__proc_me();
    const mtask__procmap *map = (const mtask__procmap *)(const void *)future;
    bool runs = false;
    mtask__lock(&state->lock);
    if (map->pool != NULL && mtask__procpool_pending(future) && !mtask__procmap_is_lost(future)) {
        mtask__lock(&map->pool->lock);
        runs = !mtask__procmap_is_fresh(map->pool, map);
        mtask__unlock(&map->pool->lock);
    }
    mtask__unlock(&state->lock);
    return runs;
}

static const mtask__future_kind mtask__procmap_kind = {
    mtask__procmap_free, mtask__procmap_cancel, mtask__procmap_is_lost, NULL, false, NULL,
    mtask__procmap_runs};

static bool mtask__procmap_fits(const mtask_procmap_desc *desc) {
    return desc->fn != NULL && desc->time_limit >= 0 &&
           (desc->in != NULL || desc->in_size == 0 || desc->items != NULL) &&
           (desc->out == NULL || desc->outs == NULL);
}

static mtask_status mtask__procmap_new(mtask_procpool *pool, const mtask_procmap_desc *desc,
                                       mtask__procmap **made) {
    mtask__procmap *map;
    mtask__place place;
    mtask_status status;
    if (pool == NULL || desc == NULL || !mtask__procmap_fits(desc))
        return MTASK_INVALID;
    if (mtask__procpool_is_lost(pool))
        return MTASK_BROKEN;
    status = mtask__procpool_place(pool, desc->fn, &place);
    if (status != MTASK_OK)
        return status;
    map = (mtask__procmap *)MTASK_MALLOC(sizeof *map);
    if (map == NULL)
        return MTASK_NOMEM;
    memset(map, 0, sizeof *map);
    mtask__future_init(&map->future, 2);
    map->future.kind = &mtask__procmap_kind;
    map->source.is_map = true;
    map->pool = pool;
    map->nonce = pool->nonce;
    map->desc = *desc;
    map->place = place;
    map->left = desc->count;
    map->failed_at = SIZE_MAX;
    if (map->desc.chunk == 0)
        map->desc.chunk =
            (desc->count + 4 * (size_t)pool->workers - 1) / (4 * (size_t)pool->workers);
    if (map->desc.chunk == 0 || map->desc.chunk > UINT32_MAX)
        map->desc.chunk = map->desc.chunk == 0 ? 1 : UINT32_MAX;
    if (map->desc.time_limit == 0)
        map->desc.time_limit = pool->desc.time_limit;
    *made = map;
    return MTASK_OK;
}

/* Submits a map: it has the pool's reference and the caller's. */
static mtask_status mtask__procmap_start(mtask_procpool *pool, const mtask_procmap_desc *desc,
                                         mtask__procmap **made) {
    mtask__procmap *map = NULL;
    mtask_status status = mtask__procmap_new(pool, desc, &map);
    unsigned put = 0;
    if (status != MTASK_OK)
        return status;
    mtask__lock(&pool->lock);
    status = mtask__procpool_open(pool);
    if (status == MTASK_OK && map->left > 0) {
        mtask__backlog_append(pool, &map->source);
        put = mtask__procpool_refill(pool);
    }
    mtask__unlock(&pool->lock);
    if (status != MTASK_OK) {
        MTASK_FREE(map);
        return status;
    }
    mtask__procpool_wake(pool, put);
    if (map->desc.time_limit > 0)
        mtask__procpool_nudge(pool);
    if (desc->count == 0)
        mtask__procmap_finish(map);
    *made = map;
    return MTASK_OK;
}

MTASK_API mtask_status mtask_procpool_map_async(mtask_procpool *pool,
                                                const mtask_procmap_desc *desc,
                                                mtask_future **future) {
    mtask__procmap *map;
    mtask_status status;
    if (future == NULL)
        return MTASK_INVALID;
    *future = NULL;
    status = mtask__procmap_start(pool, desc, &map);
    if (status == MTASK_OK)
        *future = &map->future;
    return status;
}

MTASK_API mtask_status mtask_procpool_map(mtask_procpool *pool, const mtask_procmap_desc *desc,
                                          mtask_outcome *outcome, int64_t timeout) {
    mtask__procmap *map = NULL;
    int64_t deadline;
    mtask_status status = mtask__deadline(timeout, &deadline);
    if (status == MTASK_OK && pool != NULL && mtask_task_id() == pool->manager_id)
        status = MTASK_DEADLOCK;
    if (status == MTASK_OK)
        status = mtask__procmap_start(pool, desc, &map);
    if (status != MTASK_OK)
        return status;
    status = mtask_future_get(&map->future, outcome, mtask_until(deadline));
    if (!mtask_future_done(&map->future))
        mtask__procmap_wait_end(pool, map);
    mtask_future_release(&map->future);
    return status;
}

/* ---- >>procpool-close ---- */

/* What closing and terminating have in common. */
static mtask_status mtask__procpool_shut(mtask_procpool *pool, bool terminate) {
    mtask_status status;
    if (pool == NULL)
        return MTASK_INVALID;
    if (mtask__procpool_is_lost(pool))
        return MTASK_BROKEN;
    mtask__lock(&pool->lock);
    status = pool->broken ? MTASK_BROKEN : MTASK_OK;
    pool->closed = true;
    pool->terminated = pool->terminated || terminate;
    (void)mtask_word_add(&pool->room, 1);
    mtask_word_wake(&pool->room, INT_MAX, MTASK_PRIVATE);
    mtask__unlock(&pool->lock);
    mtask__procpool_nudge(pool);
    return status;
}

MTASK_API mtask_status mtask_procpool_close(mtask_procpool *pool) {
    return mtask__procpool_shut(pool, false);
}

MTASK_API mtask_status mtask_procpool_terminate(mtask_procpool *pool) {
    return mtask__procpool_shut(pool, true);
}

MTASK_API mtask_status mtask_procpool_join(mtask_procpool *pool, int64_t timeout) {
    int64_t deadline;
    bool closed;
    mtask_status status = pool == NULL ? MTASK_INVALID : mtask__deadline(timeout, &deadline);
    if (status != MTASK_OK)
        return status;
    if (mtask__procpool_is_lost(pool))
        return MTASK_BROKEN;
    if (mtask_task_id() == pool->manager_id)
        return MTASK_DEADLOCK;
    mtask__lock(&pool->lock);
    closed = pool->closed;
    mtask__unlock(&pool->lock);
    if (!closed)
        return MTASK_INVALID;
    while (status == MTASK_OK && mtask_word_load(&pool->ended) == 0)
        status = mtask_word_wait(&pool->ended, 0, mtask_until(deadline), MTASK_PRIVATE);
    return mtask_word_load(&pool->ended) != 0 ? MTASK_OK : status;
}

MTASK_API mtask_status mtask_procpool_destroy(mtask_procpool *pool) {
    bool closed;
    if (pool == NULL)
        return MTASK_OK;
    if (mtask__procpool_is_lost(pool)) {
        mtask__procpool_free(pool);
        return MTASK_OK;
    }
    if (mtask_task_id() == pool->manager_id)
        return MTASK_DEADLOCK;
    mtask__lock(&pool->lock);
    closed = pool->closed;
    mtask__unlock(&pool->lock);
    (void)mtask__procpool_shut(pool, !closed);
    mtask_shield_begin();
    while (mtask_procpool_join(pool, MTASK_FOREVER) != MTASK_OK)
        mtask__yield();
    while (mtask_thread_join(&pool->manager, NULL, MTASK_FOREVER) == MTASK_CANCELED)
        mtask__yield();
    mtask_shield_end();
    mtask__procpool_unlink(pool);
    mtask__procpool_free(pool);
    return MTASK_OK;
}

MTASK_API mtask_procpool_stats mtask_procpool_get_stats(mtask_procpool *pool) {
    mtask_procpool_stats stats;
    mtask__lock(&pool->lock);
    stats = pool->stats;
    stats.workers = pool->workers;
    stats.pending = pool->waiting;
    for (const mtask__source *source = pool->first; source != NULL; source = source->next)
        if (source->is_map) {
            const mtask__procmap *map = mtask__source_map((mtask__source *)(uintptr_t)source);
            stats.pending += (map->desc.count - map->next + map->desc.chunk - 1) / map->desc.chunk;
        }
    for (unsigned i = 0; i < mtask__load(&pool->reached, RELAXED); i++) {
        unsigned kind = mtask__state_kind(mtask_word_load(&mtask__procpool_slot(pool, i)->state));
        stats.pending += kind == MTASK__SLOT_READY;
        stats.running += kind > MTASK__SLOT_READY;
    }
    for (unsigned i = 0; i < pool->workers; i++)
        stats.alive += pool->crew[i].lives;
    mtask__unlock(&pool->lock);
    return stats;
}

/* ---- >>procimap ---- */

/* A chunk of items on its way, or returned item by item. */
typedef struct mtask__batch {
    mtask_future *future; /* NULL: this place is free */
    size_t first;         /* index of its first item */
    uint32_t items;
    uint32_t given;        /* items of it that have been returned */
    size_t at;             /* where the next one lies in its result */
    mtask_outcome outcome; /* once it has ended */
} mtask__batch;

struct mtask_procimap {
    mtask_procpool *pool;
    mtask_procimap_desc desc;
    mtask__batch *batches;  /* ordered: a ring in the order of the input */
    mtask_future **futures; /* those that are waited for */
    size_t room;            /* chunks that may be on their way at once */
    size_t live;            /* chunks that are */
    size_t next;            /* ordered: number of the chunk to be returned next */
    size_t begun;           /* chunks so far */
    size_t pulled;          /* items so far */
    mtask__batch *now;      /* whose items are being returned */
    mtask_status input;     /* MTASK_OK; or why no more is pulled */
    mtask_status shut;      /* MTASK_OK; or why the pool takes no more */
    mtask_outcome failure;  /* of the input */
    mtask_buf one;
    bool stuck;      /* for lack of memory it could not go into the chunk */
    mtask_buf chunk; /* items that have been pulled and not submitted */
    uint32_t held;   /* how many */
    char text[MTASK_TEXT_SIZE];
};

static bool mtask__procimap_fits(const mtask_procimap_desc *desc) {
    return desc->fn != NULL && desc->input != NULL && desc->time_limit >= 0 &&
           desc->chunk <= UINT32_MAX / 2;
}

static mtask_status mtask__procimap_make(mtask_procpool *pool, const mtask_procimap_desc *desc,
                                         mtask_procimap **made) {
    size_t chunk = desc->chunk == 0 ? 1 : desc->chunk;
    size_t ahead = desc->ahead == 0 ? 2 * (size_t)pool->workers * chunk : desc->ahead;
    size_t room = ahead / chunk + (ahead % chunk != 0);
    size_t bytes = sizeof **made + room * (sizeof(mtask__batch) + sizeof(mtask_future *));
    mtask_procimap *imap;
    if (room > SIZE_MAX / 4 / (sizeof(mtask__batch) + sizeof(mtask_future *)))
        return MTASK_NOMEM;
    imap = (mtask_procimap *)MTASK_MALLOC(bytes);
    if (imap == NULL)
        return MTASK_NOMEM;
    memset(imap, 0, bytes);
    imap->pool = pool;
    imap->desc = *desc;
    imap->desc.chunk = chunk;
    imap->room = room;
    imap->batches = (mtask__batch *)(void *)(imap + 1);
    imap->futures = (mtask_future **)(void *)(imap->batches + room);
    *made = imap;
    return MTASK_OK;
}

MTASK_API mtask_status mtask_procpool_imap(mtask_procpool *pool, const mtask_procimap_desc *desc,
                                           mtask_procimap **imap) {
    mtask__place place;
    mtask_status status;
    if (imap == NULL)
        return MTASK_INVALID;
    *imap = NULL;
    if (pool == NULL || desc == NULL || !mtask__procimap_fits(desc))
        return MTASK_INVALID;
    if (mtask__procpool_is_lost(pool))
        return MTASK_BROKEN;
    status = mtask__procpool_place(pool, desc->fn, &place);
    if (status != MTASK_OK)
        return status;
    mtask__lock(&pool->lock);
    status = mtask__procpool_open(pool);
    mtask__unlock(&pool->lock);
    return status == MTASK_OK ? mtask__procimap_make(pool, desc, imap) : status;
}

MTASK_API mtask_status mtask_procpool_imap_unordered(mtask_procpool *pool,
                                                     const mtask_procimap_desc *desc,
                                                     mtask_procimap **imap) {
    mtask_procimap_desc unordered;
    if (desc == NULL)
        return MTASK_INVALID;
    unordered = *desc;
    unordered.unordered = true;
    return mtask_procpool_imap(pool, &unordered, imap);
}

static void *mtask__procimap_input(void *arg) {
    mtask_procimap *imap = (mtask_procimap *)arg;
    imap->input = imap->desc.input(&imap->one, imap->desc.ctx);
    if (imap->input == MTASK_OK || imap->input == MTASK_DONE)
        return NULL;
    return mtask_failure(NULL) == imap->input ? MTASK__FAILURE : mtask_fail(imap->input, NULL);
}

/* Asks for the next item; what the caller's task failed with before stays. */
static void mtask__procimap_ask(mtask_procimap *imap) {
    mtask__task *task = mtask__task_current();
    mtask_outcome outcome;
    mtask_outcome earlier;
    earlier.status = task->fail_status;
    memcpy(earlier.text, task->fail_text, sizeof earlier.text);
    task->fail_status = MTASK_OK;
    mtask__buf_clear(&imap->one);
    if (mtask__run(mtask__procimap_input, imap, &outcome) != MTASK_OK)
        imap->failure = outcome;
    task->fail_status = earlier.status;
    memcpy(task->fail_text, earlier.text, sizeof earlier.text);
}

/* Pulls items until a chunk is full, or there are no more. MTASK_NOMEM: the item that was pulled
   last waits in imap->one. */
static mtask_status mtask__procimap_pull(mtask_procimap *imap) {
    while (imap->held < imap->desc.chunk && imap->input == MTASK_OK) {
        mtask_status status;
        if (!imap->stuck)
            mtask__procimap_ask(imap);
        if (imap->input != MTASK_OK)
            break;
        if (imap->desc.chunk == 1)
            status = mtask_buf_append(&imap->chunk, imap->one.data, imap->one.size);
        else
            status = mtask__frame_append(&imap->chunk, MTASK_OK, imap->one.data, imap->one.size);
        imap->stuck = status != MTASK_OK;
        if (imap->stuck)
            return status;
        imap->held++;
    }
    return MTASK_OK;
}

/* A free place for a chunk; there is one. */
static mtask__batch *mtask__procimap_place(mtask_procimap *imap) {
    mtask__batch *batch = &imap->batches[imap->begun % imap->room];
    while (batch->future != NULL) /* unordered: any */
        batch = batch + 1 < imap->batches + imap->room ? batch + 1 : imap->batches;
    return batch;
}

/* Sends a chunk on its way. MTASK_FULL: later. */
static mtask_status mtask__procimap_send(mtask_procimap *imap, int64_t timeout) {
    mtask__batch *batch = mtask__procimap_place(imap);
    mtask_proctask_desc desc;
    mtask_status status;
    memset(&desc, 0, sizeof desc);
    desc.fn = imap->desc.fn;
    desc.in = imap->chunk.data;
    desc.in_size = imap->chunk.size;
    desc.time_limit = imap->desc.time_limit;
    status = mtask__procpool_add(imap->pool, &desc, imap->desc.chunk == 1 ? 0 : imap->held,
                                 &batch->future, timeout);
    if (status != MTASK_OK)
        return status;
    batch->first = imap->pulled;
    batch->items = imap->held;
    batch->given = 0;
    batch->at = 0;
    imap->pulled += imap->held;
    imap->held = 0;
    imap->begun++;
    imap->live++;
    mtask__buf_clear(&imap->chunk);
    return MTASK_OK;
}

/* Pulls as far ahead as it may. */
static mtask_status mtask__procimap_fill(mtask_procimap *imap, int64_t deadline) {
    while (imap->live < imap->room && imap->shut == MTASK_OK) {
        bool alone = imap->live == 0; /* then there is nothing else to wait for */
        mtask_status status = mtask__procimap_pull(imap);
        if (status != MTASK_OK)
            return alone ? status : MTASK_OK;
        if (imap->held == 0)
            return MTASK_OK;
        status = mtask__procimap_send(imap, alone ? mtask_until(deadline) : MTASK_NOWAIT);
        if (status == MTASK_FULL)
            return alone ? MTASK_TIMEOUT : MTASK_OK;
        if (status == MTASK_CLOSED || status == MTASK_BROKEN)
            imap->shut = status;
        else if (status != MTASK_OK)
            return alone ? status : MTASK_OK;
    }
    return MTASK_OK;
}

/* The chunks that may be returned next: those of the places from *first on, *count of them. */
static void mtask__procimap_range(const mtask_procimap *imap, size_t *first, size_t *count) {
    *first = imap->desc.unordered ? 0 : imap->next % imap->room;
    *count = imap->desc.unordered ? imap->room : 1;
}

/* A chunk that has ended; NULL: none has. */
static mtask__batch *mtask__procimap_ended(mtask_procimap *imap) {
    size_t first;
    size_t count;
    mtask__procimap_range(imap, &first, &count);
    for (size_t i = first; i < first + count; i++)
        if (imap->batches[i].future != NULL && mtask_future_done(imap->batches[i].future))
            return &imap->batches[i];
    return NULL;
}

/* Waits for a chunk. */
static mtask_status mtask__procimap_await(mtask_procimap *imap, int64_t deadline) {
    mtask_status status = MTASK_OK;
    while ((imap->now = mtask__procimap_ended(imap)) == NULL && status == MTASK_OK) {
        size_t first;
        size_t count;
        size_t waiting = 0;
        mtask__procimap_range(imap, &first, &count);
        for (size_t i = first; i < first + count; i++)
            if (imap->batches[i].future != NULL)
                imap->futures[waiting++] = imap->batches[i].future;
        status = mtask_futures_wait(imap->futures, waiting, MTASK_WAIT_ANY, mtask_until(deadline));
    }
    if (imap->now == NULL)
        return status;
    (void)mtask_future_get(imap->now->future, &imap->now->outcome, MTASK_NOWAIT);
    return MTASK_OK;
}

/* The chunk whose items have all been returned goes. */
static void mtask__procimap_retire(mtask_procimap *imap) {
    if (imap->now == NULL || imap->now->given < imap->now->items)
        return;
    mtask_future_release(imap->now->future);
    imap->now->future = NULL;
    imap->now = NULL;
    imap->live--;
    imap->next++;
}

/* The next item of the chunk. */
static mtask_status mtask__procimap_item(mtask_procimap *imap, mtask_procitem *item) {
    mtask__batch *batch = imap->now;
    mtask__parcel frame;
    size_t size;
    const char *data = (const char *)mtask_future_bytes(batch->future, &size);
    item->index = batch->first + batch->given++;
    item->status = batch->outcome.status;
    item->text = batch->outcome.text;
    item->data = data != NULL ? data : "";
    item->size = size;
    if (item->status != MTASK_OK || imap->desc.chunk == 1)
        return item->status == MTASK_OK ? MTASK_OK : MTASK_FAILED;
    data = data == NULL ? NULL : mtask__frame_next(data, size, &batch->at, &frame);
    item->data = data != NULL ? data : "";
    item->size = data != NULL ? (size_t)frame.size : 0;
    item->status = data != NULL ? (mtask_status)frame.status : MTASK_BROKEN;
    if (item->status == MTASK_OK)
        return MTASK_OK;
    size = item->size < sizeof imap->text ? item->size : sizeof imap->text - 1;
    memcpy(imap->text, item->data, size);
    imap->text[size] = 0;
    item->text = imap->text;
    item->data = "";
    item->size = 0;
    return MTASK_FAILED;
}

/* There are no more items: why. */
static mtask_status mtask__procimap_over(mtask_procimap *imap, mtask_procitem *item) {
    if (imap->shut != MTASK_OK)
        return imap->shut;
    if (imap->input == MTASK_DONE)
        return MTASK_DONE;
    item->index = imap->pulled;
    item->status = imap->input;
    item->text = imap->failure.text;
    imap->input = MTASK_DONE;
    return MTASK_FAILED;
}

MTASK_API mtask_status mtask_procimap_next(mtask_procimap *imap, mtask_procitem *item,
                                           int64_t timeout) {
    int64_t deadline;
    mtask_status status =
        imap == NULL || item == NULL ? MTASK_INVALID : mtask__deadline(timeout, &deadline);
    if (status != MTASK_OK)
        return status;
    memset(item, 0, sizeof *item);
    item->text = "";
    if (mtask__procpool_is_lost(imap->pool))
        return MTASK_BROKEN;
    mtask__procimap_retire(imap);
    status = mtask__procimap_fill(imap, deadline);
    if (status != MTASK_OK)
        return status;
    if (imap->live == 0)
        return mtask__procimap_over(imap, item);
    if (imap->now == NULL)
        status = mtask__procimap_await(imap, deadline);
    return status == MTASK_OK ? mtask__procimap_item(imap, item) : status;
}

MTASK_API void mtask_procimap_close(mtask_procimap *imap) {
    if (imap == NULL)
        return;
    for (size_t i = 0; i < imap->room; i++)
        if (imap->batches[i].future != NULL) {
            if (!mtask__procpool_is_lost(imap->pool))
                (void)mtask_future_cancel(imap->batches[i].future);
            mtask_future_release(imap->batches[i].future);
        }
    mtask_buf_free(&imap->one);
    mtask_buf_free(&imap->chunk);
    MTASK_FREE(imap);
}

/* ---- >>posix-spawn: where no call closes all descriptors ---- */

# if !defined(__GLIBC__) || defined(MTASK_FORCE_POSIX)
#  include <dirent.h>

/* The highest descriptor that is open; -1: errno. */
static int mtask__fd_highest(void) {
    DIR *directory = opendir("/dev/fd");
    const struct dirent *entry;
    int highest = 2;
    if (directory == NULL)
        return -1;
    while ((entry = readdir(directory)) != NULL) {
        int fd = atoi(entry->d_name);
        highest = fd > highest ? fd : highest;
    }
    closedir(directory);
    return highest;
}

static int mtask__close_each_from(posix_spawn_file_actions_t *actions, int from) {
    int highest = mtask__fd_highest();
    int limit = (int)sysconf(_SC_OPEN_MAX); /* beyond which they would be refused */
    int error = highest < 0 ? errno : 0;
    for (int fd = from; fd <= highest && fd < limit && error == 0; fd++)
        error = posix_spawn_file_actions_addclose(actions, fd);
    return error;
}
# endif

/* ---- >>linux-proc ---- */

# if defined(__linux__) && !defined(MTASK_FORCE_POSIX)
#  include <sched.h>
#  include <sys/eventfd.h>
#  include <sys/syscall.h>

#  ifndef SYS_pidfd_open
#   define SYS_pidfd_open 434
#  endif
#  ifndef SYS_pidfd_send_signal
#   define SYS_pidfd_send_signal 424
#  endif
#  ifndef MFD_CLOEXEC
#   define MFD_CLOEXEC 1U
#  endif

static bool mtask__os_proc_pipe(int ends[2]) {
    return pipe2(ends, O_CLOEXEC) == 0;
}

static bool mtask__os_proc_pair(int ends[2], bool packets) {
    return socketpair(AF_UNIX, (packets ? SOCK_SEQPACKET : SOCK_STREAM) | SOCK_CLOEXEC, 0, ends) ==
           0;
}

static int mtask__os_proc_fd(pid_t pid) {
    return (int)syscall(SYS_pidfd_open, pid, 0);
}

static int mtask__os_proc_signal(int fd, int number) {
    return (int)syscall(SYS_pidfd_send_signal, fd, number, NULL, 0);
}

/* The system sends the signal itself when the last writing end is closed. Who shares a descriptor
   shares the owner of its signals, so each process opens the pipe anew. */
static bool mtask__os_die_with(int lifeline) {
    char path[40];
    struct pollfd polled;
    int ready;
    int fd;
    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", lifeline);
    fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        return false;
    if (fcntl(fd, F_SETSIG, SIGKILL) != 0 || fcntl(fd, F_SETOWN, getpid()) != 0 ||
        fcntl(fd, F_SETFL, O_NONBLOCK | O_ASYNC) != 0)
        return false;
    polled.fd = fd;
    polled.events = POLLIN;
    do
        ready = poll(&polled, 1, 0);
    while (ready < 0 && errno == EINTR);
    if (ready > 0) /* it had ended before that */
        _exit(1);
    return true;
}

static mtask_status mtask__os_proc_affinity(const unsigned *cpus, size_t count) {
    unsigned most = 0;
    size_t size;
    cpu_set_t *set;
    int result;
    if (count == 0)
        return MTASK_OK;
    for (size_t i = 0; i < count; i++)
        most = cpus[i] > most ? cpus[i] : most;
    if (most > 65535) {
        errno = EINVAL;
        return MTASK_SYSTEM;
    }
    set = CPU_ALLOC(most + 1);
    if (set == NULL)
        return MTASK_NOMEM;
    size = CPU_ALLOC_SIZE(most + 1);
    CPU_ZERO_S(size, set);
    for (size_t i = 0; i < count; i++)
        CPU_SET_S(cpus[i], size, set);
    result = sched_setaffinity(0, size, set);
    CPU_FREE(set);
    return result == 0 ? MTASK_OK : MTASK_SYSTEM;
}

/* A name is a symbolic link, in a directory of the user's, to the descriptor of the creator:
   /proc/PID/fd/N. It leads nowhere as soon as the creator has closed it or ended, so that nobody
   has to clean up after it: the memory is gone then, and the link is replaced by the next creator.
   That the descriptor still is the block, and not another file of a new process with that number,
   its own name shows. */
#  define MTASK__SHM_PREFIX "mtask."

static int mtask__os_shm_open(const char *name) {
    char label[MTASK_SHM_NAME + 8];
    (void)snprintf(label, sizeof label, MTASK__SHM_PREFIX "%s", name);
    return memfd_create(label, MFD_CLOEXEC);
}

/* The directory, which is made if it must be; -1: errno. */
static int mtask__shm_directory(bool make) {
    char path[40];
    struct stat info;
    int fd;
    (void)snprintf(path, sizeof path, "/dev/shm/mtask-%u", (unsigned)geteuid());
    if (make && mkdir(path, 0700) != 0 && errno != EEXIST)
        return -1;
    fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd >= 0 &&
        (fstat(fd, &info) != 0 || info.st_uid != geteuid() || (info.st_mode & 077) != 0)) {
        close(fd);
        errno = EACCES;
        return -1;
    }
    return fd;
}

/* What a name leads to, if it is a block of that name; -1: errno is ENOENT, or why not. What it is
   is looked at before it is opened: a terminal, say, had better not be. */
static int mtask__shm_follow(int directory, const char *name) {
    char want[MTASK_SHM_NAME + 40];
    char path[40];
    char is[sizeof want + 2];
    ssize_t length;
    int block = -1;
    int fd = openat(directory, name, O_PATH | O_CLOEXEC);
    if (fd < 0) {
        errno = errno == EMFILE || errno == ENFILE || errno == ENOMEM ? errno : ENOENT;
        return -1;
    }
    (void)snprintf(want, sizeof want, "/memfd:" MTASK__SHM_PREFIX "%s (deleted)", name);
    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    length = readlink(path, is, sizeof is - 1);
    is[length < 0 ? 0 : length] = 0;
    errno = ENOENT;
    if (strcmp(is, want) == 0)
        block = open(path, O_RDWR | O_CLOEXEC);
    mtask__proc_shut(&fd);
    return block;
}

/* The directory, locked; -1: errno. A process that is forked in the midst of it would hold the
   lock, too: so none is. */
static int mtask__shm_lock(bool make) {
    int result;
    int directory;
    mtask__lock(&mtask__proc_me()->name_lock);
    directory = mtask__shm_directory(make);
    if (directory < 0) {
        mtask__unlock(&mtask__proc_process.name_lock);
        return -1;
    }
    do
        result = flock(directory, LOCK_EX);
    while (result != 0 && errno == EINTR);
    if (result == 0)
        return directory;
    mtask__proc_shut(&directory);
    mtask__unlock(&mtask__proc_process.name_lock);
    return -1;
}

static void mtask__shm_unlock(int directory) {
    int saved = errno;
    (void)flock(directory, LOCK_UN);
    errno = saved;
    mtask__proc_shut(&directory);
    mtask__unlock(&mtask__proc_process.name_lock);
}

/* Whether a name leads to that. A new block whose name already does has the descriptor of one that
   could not take its name away. */
static bool mtask__shm_leads(int directory, const char *name, const char *target) {
    char is[48];
    ssize_t length = readlinkat(directory, name, is, sizeof is - 1);
    is[length < 0 ? 0 : length] = 0;
    return strcmp(is, target) == 0;
}

static mtask_status mtask__os_shm_link(mtask_shm *shm) {
    char target[40];
    bool made = false;
    int directory = mtask__shm_lock(true);
    (void)snprintf(target, sizeof target, "/proc/%ld/fd/%d", (long)getpid(), shm->fd);
    if (directory < 0)
        return MTASK_SYSTEM;
    made = symlinkat(target, directory, shm->name) == 0;
    if (!made && errno == EEXIST) {
        bool ours = mtask__shm_leads(directory, shm->name, target);
        int other = ours ? -1 : mtask__shm_follow(directory, shm->name);
        if (ours || (other < 0 && errno == ENOENT)) {
            (void)unlinkat(directory, shm->name, 0);
            made = symlinkat(target, directory, shm->name) == 0;
        } else {
            mtask__proc_shut(&other);
            errno = EEXIST;
        }
    }
    mtask__shm_unlock(directory);
    return made ? MTASK_OK : MTASK_SYSTEM;
}

static mtask_status mtask__os_shm_unlink(const mtask_shm *shm) {
    char target[40];
    bool ours;
    bool gone;
    int directory = mtask__shm_lock(false);
    (void)snprintf(target, sizeof target, "/proc/%ld/fd/%d", (long)getpid(), shm->fd);
    if (directory < 0)
        return errno == ENOENT ? MTASK_NOT_FOUND : MTASK_SYSTEM;
    ours = mtask__shm_leads(directory, shm->name, target);
    gone = ours && unlinkat(directory, shm->name, 0) == 0;
    mtask__shm_unlock(directory);
    if (gone)
        return MTASK_OK;
    return ours && errno != ENOENT ? MTASK_SYSTEM : MTASK_NOT_FOUND;
}

/* A link that leads nowhere is left to the next creator: here it might only be that this process
   does not see the other's /proc. */
static mtask_status mtask__os_shm_find(const char *name, int *fd) {
    int directory = mtask__shm_directory(false);
    if (directory < 0)
        return errno == ENOENT ? MTASK_NOT_FOUND : MTASK_SYSTEM;
    *fd = mtask__shm_follow(directory, name);
    mtask__proc_shut(&directory);
    if (*fd >= 0)
        return MTASK_OK;
    return errno == ENOENT ? MTASK_NOT_FOUND : MTASK_SYSTEM;
}

static bool mtask__os_bell_open(int bell[2]) {
    bell[0] = bell[1] = eventfd(0, EFD_CLOEXEC);
    return bell[0] >= 0;
}

static void mtask__os_bell_ring(int fd) {
    uint64_t one = 1;
    ssize_t put;
    int saved = errno;
    do
        put = write(fd, &one, sizeof one);
    while (put < 0 && errno == EINTR);
    errno = saved;
}

static void mtask__os_bell_wait(int fd) {
    uint64_t count;
    ssize_t got = read(fd, &count, sizeof count); /* by a signal it is woken for nothing */
    (void)got;
}

static void mtask__os_bell_clear(int fd) {
    mtask__os_bell_wait(fd); /* called when it has been rung: does not block */
}

static void mtask__os_bell_close(int bell[2]) {
    mtask__proc_shut(&bell[0]);
    bell[1] = -1;
}

/* All descriptors from a number on are added that are open, or can be: glibc has a call for it,
   which is safe also if other threads open some meanwhile. */
static int mtask__os_close_from(posix_spawn_file_actions_t *actions, int from) {
#  ifdef __GLIBC__
    long limit = sysconf(_SC_OPEN_MAX); /* beyond which it would be refused */
    return limit >= 0 && from >= limit ? 0
                                       : posix_spawn_file_actions_addclosefrom_np(actions, from);
#  else
    return mtask__close_each_from(actions, from);
#  endif
}
# endif

/* ---- >>posix-proc ---- */

# if defined(MTASK_FORCE_POSIX)
static bool mtask__os_proc_pipe(int ends[2]) {
    if (pipe(ends) != 0)
        return false;
    (void)fcntl(ends[0], F_SETFD, FD_CLOEXEC);
    (void)fcntl(ends[1], F_SETFD, FD_CLOEXEC);
    return true;
}

static bool mtask__os_proc_pair(int ends[2], bool packets) {
    if (socketpair(AF_UNIX, packets ? SOCK_SEQPACKET : SOCK_STREAM, 0, ends) != 0)
        return false;
    (void)fcntl(ends[0], F_SETFD, FD_CLOEXEC);
    (void)fcntl(ends[1], F_SETFD, FD_CLOEXEC);
    return true;
}

static int mtask__os_proc_fd(pid_t pid) {
    (void)pid;
    errno = ENOSYS;
    return -1;
}

static int mtask__os_proc_signal(int fd, int number) {
    (void)fd, (void)number;
    errno = ENOSYS;
    return -1;
}

/* A thread waits for the end of the pipe. */
static void *mtask__die_with(void *arg) {
    struct pollfd polled;
    polled.fd = (int)(intptr_t)arg;
    polled.events = POLLIN;
    while (poll(&polled, 1, -1) < 0)
        continue;
    (void)kill(getpid(), SIGKILL);
    return NULL;
}

static bool mtask__os_die_with(int lifeline) {
    pthread_t thread;
    sigset_t all;
    sigset_t old;
    int error;
    (void)sigfillset(&all); /* signals are for the others */
    (void)pthread_sigmask(SIG_SETMASK, &all, &old);
    error = pthread_create(&thread, NULL, mtask__die_with, (void *)(intptr_t)lifeline);
    (void)pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (error == 0)
        error = pthread_detach(thread);
    errno = error;
    return error == 0;
}

static mtask_status mtask__os_proc_affinity(const unsigned *cpus, size_t count) {
    (void)cpus, (void)count;
    errno = ENOSYS;
    return MTASK_UNSUPPORTED;
}

/* The creator holds a lock on the file, which goes with it (and with its children that have a copy
   of its descriptor): a block on which nobody holds one is left from a creator that was killed. */
static void mtask__shm_path(const char *name, char *path, size_t size) {
    static mtask_word serial;
    if (name[0] != 0)
        (void)snprintf(path, size, "/mtask-%u-%s", (unsigned)geteuid(), name);
    else
        (void)snprintf(path, size, "/mtask-%u.%ld.%u", (unsigned)geteuid(), (long)getpid(),
                       (unsigned)mtask_word_add(&serial, 1));
}

/* Whether the creator of an open block has ended. */
static bool mtask__shm_is_stale(int fd) {
    return flock(fd, LOCK_SH | LOCK_NB) == 0;
}

/* While names change, a lock is held: on an empty block of the user's; -1: errno. No process can be
   forked meanwhile, which would hold it, too. */
static int mtask__shm_lock(void) {
    char path[40];
    int result = 0;
    int lock;
    (void)snprintf(path, sizeof path, "/mtask-%u.lock", (unsigned)geteuid());
    mtask__lock(&mtask__proc_me()->name_lock);
    lock = shm_open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (lock >= 0)
        do
            result = flock(lock, LOCK_EX);
        while (result != 0 && errno == EINTR);
    if (result != 0)
        mtask__proc_shut(&lock);
    if (lock < 0)
        mtask__unlock(&mtask__proc_process.name_lock);
    return lock;
}

static void mtask__shm_unlock(int lock) {
    int saved = errno;
    (void)flock(lock, LOCK_UN);
    errno = saved;
    mtask__proc_shut(&lock);
    mtask__unlock(&mtask__proc_process.name_lock);
}

/* Makes a block of that path. Under the lock. */
static int mtask__shm_make_at(const char *path) {
    int fd = shm_open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0 && errno == EEXIST) {
        int other = shm_open(path, O_RDWR | O_CLOEXEC, 0600);
        bool stale = other >= 0 && mtask__shm_is_stale(other);
        mtask__proc_shut(&other);
        errno = EEXIST;
        if (stale && shm_unlink(path) == 0)
            fd = shm_open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    }
    if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) != 0) {
        (void)shm_unlink(path);
        mtask__proc_shut(&fd);
    }
    return fd;
}

static int mtask__os_shm_open(const char *name) {
    char path[MTASK_SHM_NAME + 40];
    int lock;
    int fd;
    mtask__shm_path(name, path, sizeof path);
    if (name[0] != 0) {
        lock = mtask__shm_lock();
        if (lock < 0)
            return -1;
        fd = mtask__shm_make_at(path);
        mtask__shm_unlock(lock);
        return fd;
    }
    fd = shm_open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd >= 0)
        (void)shm_unlink(path);
    return fd;
}

static mtask_status mtask__os_shm_link(mtask_shm *shm) {
    (void)shm; /* it was made with its name */
    return MTASK_OK;
}

static mtask_status mtask__os_shm_unlink(const mtask_shm *shm) {
    char path[MTASK_SHM_NAME + 40];
    mtask__shm_path(shm->name, path, sizeof path);
    if (shm_unlink(path) == 0)
        return MTASK_OK;
    return errno == ENOENT ? MTASK_NOT_FOUND : MTASK_SYSTEM;
}

static mtask_status mtask__os_shm_find(const char *name, int *fd) {
    char path[MTASK_SHM_NAME + 40];
    int lock = mtask__shm_lock();
    mtask_status status = MTASK_OK;
    if (lock < 0)
        return MTASK_SYSTEM;
    mtask__shm_path(name, path, sizeof path);
    *fd = shm_open(path, O_RDWR | O_CLOEXEC, 0600);
    if (*fd < 0) {
        status = errno == ENOENT ? MTASK_NOT_FOUND : MTASK_SYSTEM;
    } else if (mtask__shm_is_stale(*fd)) {
        (void)shm_unlink(path);
        mtask__proc_shut(fd);
        status = MTASK_NOT_FOUND;
    }
    mtask__shm_unlock(lock);
    return status;
}

static bool mtask__os_bell_open(int bell[2]) {
    if (!mtask__os_proc_pipe(bell))
        return false;
    (void)fcntl(bell[1], F_SETFL, O_NONBLOCK); /* one that is full has been rung enough */
    return true;
}

static void mtask__os_bell_ring(int fd) {
    ssize_t put;
    int saved = errno;
    do
        put = write(fd, "", 1);
    while (put < 0 && errno == EINTR);
    errno = saved;
}

static void mtask__os_bell_wait(int fd) {
    char rings[64];
    ssize_t got = read(fd, rings, sizeof rings);
    (void)got;
}

static void mtask__os_bell_clear(int fd) {
    mtask__os_bell_wait(fd);
}

static void mtask__os_bell_close(int bell[2]) {
    mtask__proc_shut(&bell[0]);
    mtask__proc_shut(&bell[1]);
}

static int mtask__os_close_from(posix_spawn_file_actions_t *actions, int from) {
    return mtask__close_each_from(actions, from);
}
# endif

# ifdef __cplusplus
} /* extern "C" */
# endif

#endif /* MTASK_PROC_IMPLEMENTATION */
