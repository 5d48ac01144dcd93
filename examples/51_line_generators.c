// mkdir -p build && cc -O2 -pthread -I. -o build/51_line_generators examples/51_line_generators.c
//
// A pipeline of generators over a file: `build/51_line_generators [-n LINES] [TEXT FIELD FILE]` is
//
//     grep -F TEXT FILE | head -n LINES | awk '{print $FIELD}' | LC_ALL=C sort | uniq -c
//
// lines -> matching -> first -> field -> counts: each asks the one before it for the next item when it
// needs one. So there is one line in memory, not the file, and when `first` has had enough, the rest
// is not read. An error of one of them ends those behind it, and is told at the end.
//
// Output with MTASK_API 2 mtask.h (patterns):
//   ^ +[0-9]+ bool$
//   ^ +[0-9]+ mtask_status$
//   ^ +[0-9]+ void$
// Output with -n 3 a 1 LICENSE (patterns):
//   ^ +1
#define MTASK_IMPLEMENTATION
#include "mtask_coro.h"
#include "common.h"
#include <errno.h>
#include <string.h>
#include <unistd.h>

enum { STAGES = 5 };

typedef struct Count {
    const char *text;
    size_t count;
} Count;

static mtask_coro *stages[STAGES];
static size_t most = SIZE_MAX; /* matching lines */
static const char *text = "MTASK_API", *path = "mtask.h";
static size_t number = 2; /* of the field */

/* Yields the lines of the file, without the line feed. */
static void *lines(void *arg) {
    FILE *file = fopen(path, "r");
    char *line = NULL;
    size_t capacity = 0;
    while (file != NULL && getline(&line, &capacity, file) >= 0) {
        line[strcspn(line, "\n")] = '\0';
        if (mtask_coro_yield(line, NULL) != MTASK_OK)
            break; /* closed: nobody wants the rest */
    }
    if (file == NULL || ferror(file))
        arg = mtask_fail(MTASK_SYSTEM, "%s: %s", path, strerror(errno));
    free(line);
    if (file != NULL)
        fclose(file);
    return arg;
}

static void *matching(void *from) {
    MTASK_FOREACH(line, from)
        if (strstr((char *)line, text) != NULL && mtask_coro_yield(line, NULL) != MTASK_OK)
            break;
    return NULL;
}

static void *first(void *from) {
    void *line;
    for (size_t i = 0; i < most && mtask_coro_next(from, &line); i++)
        if (mtask_coro_yield(line, NULL) != MTASK_OK)
            break;
    return NULL;
}

static void *field(void *from) {
    MTASK_FOREACH(line, from) {
        char *begin = (char *)line + strspn((char *)line, " \t");
        for (size_t i = 1; i < number; i++) {
            begin += strcspn(begin, " \t");
            begin += strspn(begin, " \t");
        }
        begin[strcspn(begin, " \t")] = '\0';
        if (mtask_coro_yield(begin, NULL) != MTASK_OK)
            break;
    }
    return NULL;
}

static int by_bytes(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Yields each different item once, sorted, with how often it came: these must all be kept. */
static void *counts(void *from) {
    char **items = NULL;
    size_t count = 0, same;
    MTASK_FOREACH(item, from) {
        if ((count & (count - 1)) == 0) /* a power of two: it is full */
            items = (char **)realloc(items, (count > 0 ? 2 * count : 1) * sizeof *items);
        char *copy = strdup((char *)item);
        MUST(items != NULL && copy != NULL ? MTASK_OK : MTASK_NOMEM);
        items[count++] = copy;
    }
    if (count > 0)
        qsort(items, count, sizeof *items, by_bytes);
    for (size_t i = 0; i < count; i += same) {
        for (same = 1; i + same < count && strcmp(items[i], items[i + same]) == 0;)
            same++;
        Count result = {items[i], same};
        if (mtask_coro_yield(&result, NULL) != MTASK_OK)
            break;
    }
    while (count > 0)
        free(items[--count]);
    free(items);
    return NULL;
}

/* Ends a stage; false: it has failed. */
static bool finish(mtask_coro *stage) {
    mtask_outcome outcome;
    (void)mtask_coro_close(stage); /* its outcome says what this does */
    bool failed = mtask_coro_outcome(stage, &outcome) == MTASK_FAILED;
    if (failed)
        fprintf(stderr, "51_line_generators: %s\n", outcome.text);
    MUST(mtask_coro_destroy(stage));
    return !failed;
}

int main(int argc, char **argv) {
    static const mtask_fn functions[STAGES] = {lines, matching, first, field, counts};
    bool ok = true;
    if (argc > 2 && strcmp(argv[1], "-n") == 0) {
        most = strtoul(argv[2], NULL, 10);
        argv += 2;
        argc -= 2;
    }
    if (argc == 4) {
        text = argv[1];
        number = strtoul(argv[2], NULL, 10);
        path = argv[3];
    }
    if ((argc != 1 && argc != 4) || number == 0) {
        fprintf(stderr, "usage: 51_line_generators [-n LINES] [TEXT FIELD FILE]\n");
        return 2;
    }
    for (int i = 0; i < STAGES; i++)
        MUST(mtask_coro_create(&stages[i], functions[i], i > 0 ? stages[i - 1] : NULL));
    MTASK_FOREACH(item, stages[STAGES - 1])
        printf("%7zu %s\n", ((Count *)item)->count, ((Count *)item)->text);
    for (int i = STAGES; i-- > 0;)
        ok = finish(stages[i]) && ok;
    return fflush(stdout) == 0 && ok ? 0 : 1;
}
