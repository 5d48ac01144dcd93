// mkdir -p build && cc -O2 -pthread -I. -o build/parallel examples/parallel.c
/* parallel: runs commands, some at a time; the usage is below.

   How: a task takes one of as many slots as commands may run, reads a line, and starts a task for
   it, which starts the command, and reads what that writes until it ends; another task prints what
   has ended, in order. All of them take turns on one thread, so what they share needs no lock. A
   signal, or a failure with --halt=now, cancels the tasks, and each ends its command. A command gets
   a process group of its own: so what it has started ends with it.

   A line without characters that mean something to a shell is split at blanks and run without one,
   which is faster. If that cannot be run, a shell gets it nevertheless: it knows more commands (cd,
   exit ...), and says best what is wrong. */

#define MTASK_IMPLEMENTATION
#include "mtask_proc.h"
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

static const char usage[] =
    "usage: parallel [OPTION]... [COMMAND [ARGUMENT]...]\n"
    "\n"
    "Runs a command for each line of standard input, several at a time, and prints what each has\n"
    "written in one piece, in the order of the lines. Without COMMAND a line is a command of its\n"
    "own, for the shell. With it, each {} in its arguments is replaced by the line; if there is\n"
    "none, the line becomes the last argument; no shell is involved.\n"
    "\n"
    "  -j, --jobs=N           run N commands at a time (default: one for each CPU)\n"
    "  -u, --unordered        print in the order in which they end\n"
    "  -t, --timeout=SECONDS  end a command that takes longer, which has failed then\n"
    "  -r, --retries=N        run a command that has failed up to N more times\n"
    "      --halt=WHEN        when one has failed, start no more (soon), and end those that\n"
    "                         run (now), or go on (never; default)\n"
    "  -0, --null             the lines end in a zero byte\n"
    "  -n, --dry-run          print the commands, but do not run them\n"
    "  -q, --quiet            do not tell which commands have failed\n"
    "      --progress         show how far it is, if standard error is a terminal\n"
    "  -h, --help             print this\n"
    "\n"
    "    ls *.png | parallel optipng -quiet\n"
    "    ls *.wav | parallel -j 4 flac {} -o out/{}.flac\n"
    "    seq 20 | sed 's/.*/curl -s https:\\/\\/example.org\\/& | wc -c/' | parallel -t 10 -r 2\n"
    "\n"
    "The commands' input is /dev/null; what they write is kept in memory until it is printed.\n"
    "SIGINT, SIGTERM and SIGHUP end them, and then this program. The exit status is the number of\n"
    "commands that have failed; 101: more than 100; 255: it could not do its work.\n";

enum {
    MOST_JOBS = 10000,
    FILES = 4,             /* descriptors that a command may need here, while it runs */
    PIECE = 64 << 10,      /* bytes of input that are read at a time */
    HELD_LIMIT = 64 << 20, /* bytes of output that are waiting, beyond which fewer commands run */
    MOST_FAILURES = 101,   /* that the exit status can tell */
    TROUBLE = 255
};
#define GRACE MTASK_SEC(2) /* between asking a command to end, and killing it */

static struct {
    unsigned jobs, retries;
    int64_t timeout;
    enum { NEVER, SOON, NOW } halt;
    char line_end;
    bool unordered, dry_run, quiet, progress;
    char **command; /* NULL at its end; at once: there is none */
} options = {.timeout = MTASK_FOREVER, .line_end = '\n'};

/* A command. */
struct job {
    struct job *next;
    size_t line;     /* its number */
    mtask_buf text;  /* for a shell, and for people */
    mtask_buf words; /* each with a zero behind it */
    size_t count;    /* of the words */
    const char **argv;
    bool keeps_slot; /* until it is printed */
    bool ended;
    bool canceled;   /* it was ended by us, and no failure of its */
    const char *why; /* it could not be started, or was ended; NULL: see the result */
    mtask_cmd_result result;
};

static struct {
    mtask_sem slots;         /* how many commands more may run */
    mtask_taskgroup workers; /* and the reader */
    mtask_future *reader, *printer;
    struct job *jobs;  /* that are not printed, oldest first */
    struct job **last; /* where the next one goes */
    mtask_event news;  /* for the printer: something has ended, or */
    bool over;         /* nothing will end any more */
    bool mute;         /* nothing is to be printed any more */
    bool trouble;      /* it could not do all its work */
    int signal;        /* that has ended it; 0: none */
    int out, err;      /* where output goes */
    size_t held;       /* bytes of output of those that have ended */
    size_t running, done, failed;
    int64_t started;
} state = {.last = &state.jobs};

/* ---- messages ---- */

static bool drawn; /* the progress stands on the terminal */

static void erase_progress(void) {
    if (drawn)
        fputs("\r\033[K", stderr);
    drawn = false;
}

/* Draws the progress until it is cancelled. */
static void *draw_progress(void *arg) {
    do {
        erase_progress();
        fprintf(stderr, "%zu done, %zu failed, %zu running, %.0f s", state.done, state.failed,
                state.running, (double)(mtask_now() - state.started) / 1e9);
        drawn = true;
    } while (mtask_sleep(MTASK_MS(100)) == MTASK_OK);
    erase_progress();
    return arg;
}

static const char *explain(mtask_status status) {
    return status == MTASK_SYSTEM ? strerror(errno) : mtask_strerror(status);
}

static void complain(const char *what, mtask_status status) {
    erase_progress();
    fprintf(stderr, "parallel: %s: %s\n", what, explain(status));
    state.trouble = true;
}

/* Ends all at once if that has failed which has no reason to. */
static void need(mtask_status status) {
    if (status == MTASK_OK)
        return;
    complain("cannot go on", status);
    exit(TROUBLE);
}

/* Says how a command has failed. */
static void tell(const struct job *job) {
    erase_progress();
    fprintf(stderr, "parallel: line %zu: ", job->line);
    if (job->why != NULL)
        fputs(job->why, stderr);
    else if (job->result.code < 0)
        fprintf(stderr, "signal %d", -job->result.code);
    else
        fprintf(stderr, "exit status %d", job->result.code);
    fprintf(stderr, ": %s\n", job->text.data);
}

/* ---- input ---- */

static struct {
    mtask_buf bytes;
    size_t at; /* where the next line begins */
} input;

/* Appends what comes next. */
static mtask_status read_more(void) {
    mtask_buf *bytes = &input.bytes;
    size_t count;
    memmove(bytes->data, bytes->data + input.at, bytes->size - input.at);
    bytes->size -= input.at;
    input.at = 0;
    need(mtask_buf_reserve(bytes, PIECE));
    mtask_status status =
        mtask_io_read(STDIN_FILENO, bytes->data + bytes->size, PIECE, &count, MTASK_FOREVER);
    if (status == MTASK_OK)
        bytes->size += count;
    return status;
}

/* *line is the next one, without its end, valid until the next call. MTASK_CLOSED: there is none. */
static mtask_status next_line(const char **line, size_t *size) {
    const mtask_buf *bytes = &input.bytes;
    const char *end;
    size_t searched = 0; /* bytes in which it does not end */
    while ((end = memchr(bytes->data + input.at + searched, options.line_end,
                         bytes->size - input.at - searched)) == NULL) {
        searched = bytes->size - input.at;
        mtask_status status = read_more();
        if (status == MTASK_CLOSED && searched > 0) { /* the last one, and its end is not there */
            end = bytes->data + bytes->size;
            break;
        }
        if (status != MTASK_OK)
            return status;
    }
    *line = bytes->data + input.at;
    *size = (size_t)(end - *line);
    input.at += *size + (end < bytes->data + bytes->size);
    return MTASK_OK;
}

/* ---- words ---- */

/* Whether a shell takes this byte for itself, in the midst of a word. */
static bool is_plain(char c) {
    return isalnum((unsigned char)c) || (unsigned char)c >= 0x80 || (c && strchr("_-+./,:@%=", c));
}

static bool is_blank(char c) {
    return c == ' ' || c == '\t';
}

/* Whether a shell would do no more with a line than split it. */
static bool is_simple(const char *line) {
    const char *first = line + strspn(line, " \t");
    if (memchr(first, '=', strcspn(first, " \t")) != NULL)
        return false; /* a variable */
    while (is_plain(*line) || is_blank(*line))
        line++;
    return *line == '\0';
}

static void append(mtask_buf *buf, const char *data, size_t size) {
    need(mtask_buf_append(buf, data, size));
}

static void end_word(struct job *job) {
    append(&job->words, "", 1);
    job->count++;
}

static void split(struct job *job) {
    for (const char *at = job->text.data, *end; *(at += strspn(at, " \t")) != '\0'; at = end) {
        end = at + strcspn(at, " \t");
        append(&job->words, at, (size_t)(end - at));
        end_word(job);
    }
}

/* Makes the words of the COMMAND, with the line in its place. */
static void fill_in(struct job *job, const char *line, size_t size) {
    bool used = false;
    for (char **word = options.command; *word != NULL; word++) {
        const char *at = *word;
        for (const char *mark; (mark = strstr(at, "{}")) != NULL; at = mark + 2, used = true) {
            append(&job->words, at, (size_t)(mark - at));
            append(&job->words, line, size);
        }
        append(&job->words, at, strlen(at));
        end_word(job);
    }
    if (used)
        return;
    append(&job->words, line, size);
    end_word(job);
}

/* Appends a word as one would type it. */
static void quote(mtask_buf *text, const char *word) {
    size_t plain = 0;
    while (is_plain(word[plain]))
        plain++;
    if (plain > 0 && word[plain] == '\0') {
        append(text, word, plain);
        return;
    }
    append(text, "'", 1);
    for (; *word != '\0'; word++)
        if (*word == '\'')
            append(text, "'\\''", 4);
        else
            append(text, word, 1);
    append(text, "'", 1);
}

static void set_argv(struct job *job) {
    const char *word = job->words.data;
    job->argv = calloc(job->count + 1, sizeof *job->argv);
    need(job->argv == NULL ? MTASK_NOMEM : MTASK_OK);
    for (size_t i = 0; i < job->count; i++, word += strlen(word) + 1)
        job->argv[i] = word;
}

static void free_job(struct job *job) {
    mtask_buf_free(&job->text);
    mtask_buf_free(&job->words);
    mtask_cmd_result_free(&job->result);
    free(job->argv);
    free(job);
}

/* The job of a line. */
static struct job *make_job(const char *line, size_t size, size_t number) {
    struct job *job = calloc(1, sizeof *job);
    need(job == NULL ? MTASK_NOMEM : MTASK_OK);
    job->line = number;
    if (memchr(line, '\0', size) != NULL)
        job->why = "a zero byte is in it";
    if (*options.command != NULL) {
        fill_in(job, line, size);
        set_argv(job);
        for (size_t i = 0; i < job->count; i++) {
            append(&job->text, " ", i > 0);
            quote(&job->text, job->argv[i]);
        }
        return job;
    }
    append(&job->text, line, size);
    if (is_simple(job->text.data)) {
        split(job);
        set_argv(job);
    }
    return job;
}

/* ---- running ---- */

/* Reads no more lines; `now`: and ends the commands that run. */
static void stop(bool now) {
    if (!state.over && now)
        mtask_taskgroup_cancel(&state.workers);
    else if (!state.over)
        (void)mtask_future_cancel(state.reader);
}

/* Starts the command, by itself or, of a line, by a shell. */
static mtask_status start(struct job *job, mtask_cmd **cmd) {
    const char *const line[] = {job->text.data, NULL};
    mtask_cmd_opts opts = {.in = MTASK_CMD_NULL, .capture = true, .group = true};
    if (job->argv != NULL) {
        mtask_status status = mtask_cmd_start(cmd, job->argv, &opts);
        bool cannot = status == MTASK_NOT_FOUND ||
                      (status == MTASK_SYSTEM && (errno == EACCES || errno == ENOEXEC));
        if (!cannot || *options.command != NULL)
            return status;
    }
    opts.shell = true;
    return mtask_cmd_start(cmd, line, &opts);
}

/* Ends a command that does not end by itself: asks it to, and then does not ask. What it has started
   and is not in its group may hold its output even then. */
static void end_command(mtask_cmd *cmd, mtask_cmd_result *result) {
    mtask_shield_begin();
    (void)mtask_cmd_terminate(cmd);
    if (mtask_cmd_communicate(cmd, NULL, 0, 0, result, GRACE) == MTASK_TIMEOUT) {
        (void)mtask_cmd_kill(cmd);
        (void)mtask_cmd_communicate(cmd, NULL, 0, 0, result, GRACE);
    }
    mtask_shield_end();
}

static void run_once(struct job *job) {
    mtask_cmd *cmd;
    mtask_status status = start(job, &cmd);
    job->why = status == MTASK_OK ? NULL : explain(status);
    if (status != MTASK_OK)
        return;
    state.running++;
    status = mtask_cmd_communicate(cmd, NULL, 0, 0, &job->result, options.timeout);
    job->canceled = status == MTASK_CANCELED;
    if (status != MTASK_OK)
        job->why = status == MTASK_TIMEOUT ? "it took too long" : explain(status);
    if (status == MTASK_TIMEOUT || status == MTASK_CANCELED)
        end_command(cmd, &job->result);
    mtask_cmd_destroy(cmd);
    state.running--;
}

static bool has_failed(const struct job *job) {
    return !job->canceled && (job->why != NULL || job->result.code != 0);
}

/* Runs a command until it succeeds, as often as it may. */
static void run(struct job *job) {
    run_once(job);
    for (unsigned n = 0; n < options.retries && has_failed(job) && !mtask_canceled(); n++) {
        mtask_cmd_result_free(&job->result);
        run_once(job);
    }
}

/* The task of a job. Its slot is another's at once, unless so much waits to be printed that only the
   printer may give it back: the oldest command has its own, so there is always one that goes on. */
static void *work(void *arg) {
    struct job *job = arg;
    if (job->why == NULL && options.dry_run)
        need(mtask_buf_printf(&job->result.out, "%s\n", job->text.data));
    else if (job->why == NULL)
        run(job);
    job->ended = true;
    state.held += job->result.out.size + job->result.err.size;
    job->keeps_slot = state.held > HELD_LIMIT;
    if (!job->keeps_slot)
        need(mtask_sem_release(&state.slots, 1));
    state.done += !job->canceled;
    if (has_failed(job)) {
        state.failed++;
        if (options.halt != NEVER)
            stop(options.halt == NOW);
    }
    mtask_event_set(&state.news);
    return NULL;
}

/* Starts a job for the next line. Not MTASK_OK: there is none. */
static mtask_status start_next(size_t number) {
    const char *line;
    size_t size;
    mtask_status status = next_line(&line, &size);
    if (status != MTASK_OK)
        return status;
    struct job *job = make_job(line, size, number);
    if (job->argv != NULL && job->count == 0) { /* nothing but blanks */
        free_job(job);
        return mtask_sem_release(&state.slots, 1);
    }
    *state.last = job;
    state.last = &job->next;
    return mtask_taskgroup_go(&state.workers, work, job, NULL);
}

/* The task that starts the others. */
static void *read_all(void *arg) {
    mtask_status status = MTASK_OK;
    for (size_t number = 1; status == MTASK_OK; number++) {
        status = mtask_sem_acquire(&state.slots, MTASK_FOREVER);
        if (status == MTASK_OK)
            status = mtask_canceled() ? MTASK_CANCELED : start_next(number);
    }
    if (status != MTASK_OK && status != MTASK_CLOSED && status != MTASK_CANCELED)
        complain("cannot read", status);
    return arg;
}

/* ---- printing ---- */

/* The next job to be printed, which is in the list no more; NULL: there is none yet. */
static struct job *take_ended(void) {
    struct job **at = &state.jobs, *job;
    while (options.unordered && *at != NULL && !(*at)->ended)
        at = &(*at)->next;
    job = *at;
    if (job == NULL || !(job->ended || state.over)) /* then it was cancelled before it began */
        return NULL;
    *at = job->next;
    if (*at == NULL)
        state.last = at;
    return job;
}

/* Opens a pipe or a terminal once more: for the new descriptor it can be non-blocking, and much is
   written at a time, while those who share the old one are not disturbed. */
static int open_anew(int fd) {
    char path[32];
    struct stat info;
    snprintf(path, sizeof path, "/dev/fd/%d", fd);
    if (fstat(fd, &info) != 0 || !(S_ISFIFO(info.st_mode) || S_ISCHR(info.st_mode)))
        return fd;
    int anew = open(path, O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    return anew >= 0 && mtask_io_adopt(anew) == MTASK_OK ? anew : fd;
}

/* Prints some output. If nobody reads it, all ends as by the signal that tells of that. */
static void put(const mtask_buf *output, int to) {
    if (output->size == 0 || state.mute)
        return;
    erase_progress();
    mtask_status status = mtask_io_write(to, output->data, output->size, NULL, MTASK_FOREVER);
    if (status == MTASK_OK)
        return;
    state.mute = true;
    if (status == MTASK_BROKEN)
        state.signal = SIGPIPE;
    else if (status != MTASK_CANCELED)
        complain("cannot write", status);
    stop(true);
}

static void print(struct job *job) {
    put(&job->result.out, state.out);
    put(&job->result.err, state.err);
    if (job->ended && has_failed(job) && !options.quiet && !state.mute)
        tell(job);
    state.held -= job->result.out.size + job->result.err.size;
    if (job->keeps_slot)
        need(mtask_sem_release(&state.slots, 1));
    free_job(job);
}

/* Prints what has ended, until nothing more will. */
static void *print_all(void *arg) {
    for (bool over = false; !over;) {
        mtask_shield_begin(); /* it is cancelled only to be told that nobody may be reading */
        need(mtask_event_wait(&state.news, MTASK_FOREVER));
        mtask_shield_end();
        mtask_event_clear(&state.news);
        over = state.over;
        for (struct job *job; (job = take_ended()) != NULL;)
            print(job);
    }
    return arg;
}

/* ---- signals ---- */

static mtask_signals *signals;

/* Catches those that are to end it, unless they are ignored, as nohup has it. */
static void catch_signals(void) {
    static const int deadly[] = {SIGHUP, SIGINT, SIGTERM};
    int numbers[3];
    size_t count = 0;
    struct sigaction action;
    for (size_t i = 0; i < 3; i++)
        if (sigaction(deadly[i], NULL, &action) == 0 && action.sa_handler != SIG_IGN)
            numbers[count++] = deadly[i];
    if (count > 0)
        need(mtask_signals_create(&signals, numbers, count));
}

/* Ends all when one comes. What waits to be printed is dropped. */
static void *obey_signals(void *arg) {
    int number;
    if (signals == NULL || mtask_signals_wait(signals, &number, MTASK_FOREVER) != MTASK_OK)
        return arg;
    state.signal = number;
    state.mute = true;
    stop(true);
    (void)mtask_future_cancel(state.printer);
    return arg;
}

/* ---- the program ---- */

static void *program(void *arg) {
    state.out = open_anew(STDOUT_FILENO);
    state.err = open_anew(STDERR_FILENO);
    catch_signals();
    need(mtask_go(obey_signals, NULL, NULL));
    if (options.progress && isatty(STDERR_FILENO))
        need(mtask_go(draw_progress, NULL, NULL));
    need(mtask_go(print_all, NULL, &state.printer));
    need(mtask_taskgroup_begin(&state.workers));
    need(mtask_taskgroup_go(&state.workers, read_all, NULL, &state.reader));
    (void)mtask_taskgroup_end(&state.workers, NULL);
    state.over = true;
    mtask_event_set(&state.news);
    need(mtask_future_wait(state.printer, MTASK_FOREVER));
    mtask_future_release(state.printer);
    mtask_future_release(state.reader);
    return arg;
}

static void refuse(const char *what, const char *why) {
    fprintf(stderr, "parallel: %s: %s\nparallel --help tells more\n", what, why);
    exit(TROUBLE);
}

static unsigned parse_number(const char *text, unsigned least, unsigned most) {
    char *end;
    unsigned long number = strtoul(text, &end, 10);
    if (!isdigit((unsigned char)*text) || *end != '\0' || number < least || number > most)
        refuse(text, "no such number");
    return (unsigned)number;
}

static int64_t parse_seconds(const char *text) {
    char *end;
    double number = strtod(text, &end);
    if (end == text || *end != '\0' || !(number > 0) || number > 1e9)
        refuse(text, "no such time");
    return (int64_t)(number * 1e9) + 1;
}

static void parse_halt(const char *text) {
    static const char *const names[] = {"never", "soon", "now"};
    unsigned i = 0;
    while (i < 3 && strcmp(text, names[i]) != 0)
        i++;
    if (i == 3)
        refuse(text, "no such time");
    options.halt = i;
}

static void set_option(int option) {
    switch (option) {
    case 'j':
        options.jobs = parse_number(optarg, 1, MOST_JOBS);
        break;
    case 't':
        options.timeout = parse_seconds(optarg);
        break;
    case 'r':
        options.retries = parse_number(optarg, 0, INT32_MAX);
        break;
    case 'H':
        parse_halt(optarg);
        break;
    case 'h':
        fputs(usage, stdout);
        exit(fflush(stdout) == 0 ? EXIT_SUCCESS : TROUBLE);
    case '?':
        fputs("parallel --help tells more\n", stderr);
        exit(TROUBLE);
    default:
        break;
    }
    options.unordered |= option == 'u';
    options.dry_run |= option == 'n';
    options.quiet |= option == 'q';
    options.progress |= option == 'p';
    options.line_end = option == '0' ? '\0' : options.line_end;
}

static void parse_options(int argc, char **argv) {
    static const struct option names[] = {{"jobs", required_argument, NULL, 'j'},
                                          {"unordered", no_argument, NULL, 'u'},
                                          {"timeout", required_argument, NULL, 't'},
                                          {"retries", required_argument, NULL, 'r'},
                                          {"halt", required_argument, NULL, 'H'},
                                          {"null", no_argument, NULL, '0'},
                                          {"dry-run", no_argument, NULL, 'n'},
                                          {"quiet", no_argument, NULL, 'q'},
                                          {"progress", no_argument, NULL, 'p'},
                                          {"help", no_argument, NULL, 'h'},
                                          {NULL, 0, NULL, 0}};
    options.jobs = mtask_cpu_count();
    for (int option; (option = getopt_long(argc, argv, "+j:ut:r:0nqh", names, NULL)) != -1;)
        set_option(option);
    options.command = argv + optind;
}

/* Sees to it that there are descriptors for all that may run. */
static void raise_limit(void) {
    rlim_t wanted = 64 + FILES * (rlim_t)options.jobs;
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= wanted)
        return;
    limit.rlim_cur = wanted;
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
        refuse("so many jobs", "there are not enough descriptors for them (ulimit -n)");
}

/* What is opened must not take the place of one of these. */
static void check_standard(void) {
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
        if (fcntl(fd, F_GETFD) < 0)
            refuse(fd == STDIN_FILENO ? "cannot read" : "cannot write", strerror(errno));
}

int main(int argc, char **argv) {
    check_standard();
    parse_options(argc, argv);
    raise_limit();
    state.started = mtask_now();
    need(mtask_sem_init(&state.slots, options.jobs, 0, MTASK_PRIVATE));
    need(mtask_buf_reserve(&input.bytes, PIECE));
    mtask_status status = mtask_loop_run(program, NULL, NULL);
    if (status != MTASK_OK)
        complain("cannot start", status);
    mtask_buf_free(&input.bytes);
    mtask_signals_destroy(signals);
    if (state.signal != 0)
        raise(state.signal);
    if (state.trouble || state.signal != 0)
        return TROUBLE;
    return state.failed < MOST_FAILURES ? (int)state.failed : MOST_FAILURES;
}
