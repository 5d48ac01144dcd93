// mkdir -p build && cc -O2 -pthread -I. -o build/40_words examples/40_words.c
//
// The most frequent words of a file, by a parallel reduce: `build/40_words [FILE]`. Each part of the
// text is folded into a table of its own; then tables are combined, neighbours with neighbours, into
// one. A word belongs to the part in which it begins. Before, a parallel for makes all letters
// small. Checked against the table of one thread.
//
// Output (patterns):
//   ^ +[0-9]+ mtask$
//   ^[0-9]+ words, [1-9][0-9]+ different, in mtask\.h$
//   ^one thread: [0-9.]+ s; a worker for each CPU: [0-9.]+ s; the same: yes$
#define MTASK_IMPLEMENTATION
#include "mtask_pool.h"
#include "common.h"
#include <ctype.h>
#include <errno.h>
#include <string.h>

typedef struct Word {
    const char *text; /* in the file's text */
    size_t length, count;
} Word;

/* A hash table of words; at least half of the slots are empty (their count is 0). Zero is ready. */
typedef struct Table {
    Word *slots;
    size_t capacity, words;
} Table;

static Word *find(const Table *table, const char *text, size_t length) {
    uint32_t hash = 2166136261U;
    for (size_t i = 0; i < length; i++)
        hash = (hash ^ (unsigned char)text[i]) * 16777619U;
    for (size_t i = hash;; i++) {
        Word *word = &table->slots[i & (table->capacity - 1)];
        if (word->count == 0 || (word->length == length && memcmp(word->text, text, length) == 0))
            return word;
    }
}

static void grow(Table *table) {
    Table old = *table;
    table->capacity = old.capacity > 0 ? old.capacity * 2 : 64;
    table->slots = (Word *)calloc(table->capacity, sizeof(Word));
    MUST(table->slots != NULL ? MTASK_OK : MTASK_NOMEM);
    for (size_t i = 0; i < old.capacity; i++)
        if (old.slots[i].count > 0)
            *find(table, old.slots[i].text, old.slots[i].length) = old.slots[i];
    free(old.slots);
}

static void add(Table *table, const char *text, size_t length, size_t count) {
    if (table->words >= table->capacity / 2)
        grow(table);
    Word *word = find(table, text, length);
    if (word->count == 0) {
        *word = (Word){.text = text, .length = length};
        table->words++;
    }
    word->count += count;
}

static bool is_letter(char c) {
    return isalpha((unsigned char)c) || (unsigned char)c >= 128; /* UTF-8: words stay whole */
}

/* ---- what runs in parallel ---- */

static void make_small(size_t begin, size_t end, void *ctx) {
    char *text = (char *)ctx;
    for (size_t i = begin; i < end; i++)
        text[i] = (char)tolower((unsigned char)text[i]);
}

/* Adds the words that begin in this part; the last one may end behind it. */
static void fold(size_t begin, size_t end, void *into, void *ctx) {
    const char *text = (const char *)ctx; /* ends in a zero, which is no letter */
    size_t i = begin;
    while (i > 0 && is_letter(text[i - 1]) && is_letter(text[i]))
        i++;
    while (i < end) {
        size_t first = i;
        while (is_letter(text[i]))
            i++;
        if (i > first)
            add((Table *)into, text + first, i - first, 1);
        else
            i++;
    }
}

static void combine(void *into, const void *later, void *ctx) {
    const Table *part = (const Table *)later;
    (void)ctx;
    for (size_t i = 0; i < part->capacity; i++)
        if (part->slots[i].count > 0)
            add((Table *)into, part->slots[i].text, part->slots[i].length, part->slots[i].count);
    free(part->slots);
}

/* ---- the rest ---- */

/* Reads a whole file; a zero follows it. */
static char *read_file(const char *name, size_t *size) {
    FILE *file = fopen(name, "rb");
    size_t capacity = 1 << 16, got = 0;
    char *text = (char *)malloc(capacity + 1);
    *size = 0;
    while (file != NULL && text != NULL &&
           (got = fread(text + *size, 1, capacity - *size, file)) > 0)
        if ((*size += got) == capacity) {
            char *bigger = (char *)realloc(text, (capacity *= 2) + 1);
            if (bigger == NULL)
                free(text);
            text = bigger;
        }
    if (file == NULL || text == NULL || ferror(file)) {
        fprintf(stderr, "%s: %s\n", name, strerror(errno));
        exit(EXIT_FAILURE);
    }
    fclose(file);
    text[*size] = '\0';
    return text;
}

static bool equal(const Table *a, const Table *b) {
    bool same = a->words == b->words;
    for (size_t i = 0; i < a->capacity && same; i++) {
        const Word *word = &a->slots[i];
        same = word->count == 0 || find(b, word->text, word->length)->count == word->count;
    }
    return same;
}

static int by_count(const void *a, const void *b) {
    const Word *left = (const Word *)a, *right = (const Word *)b;
    size_t shorter = left->length < right->length ? left->length : right->length;
    int order = (left->count < right->count) - (left->count > right->count);
    if (order == 0 && left->count > 0)
        order = memcmp(left->text, right->text, shorter);
    return order != 0 ? order : (left->length > right->length) - (left->length < right->length);
}

/* Prints the ten most frequent words; the table is none afterwards. */
static void print_table(Table *table, const char *name) {
    size_t words = 0;
    if (table->capacity > 0)
        qsort(table->slots, table->capacity, sizeof *table->slots, by_count);
    for (size_t i = 0; i < table->words; i++) {
        words += table->slots[i].count;
        if (i < 10)
            printf("%8zu %.*s\n", table->slots[i].count, (int)table->slots[i].length,
                   table->slots[i].text);
    }
    printf("%zu words, %zu different, in %s\n", words, table->words, name);
}

int main(int argc, char **argv) {
    const char *name = argc > 1 ? argv[1] : "mtask.h";
    size_t size;
    char *text = read_file(name, &size);
    Table none = {0}, alone = {0}, all;
    mtask_for_desc loop = {.end = size,
                           .fold = fold,
                           .combine = combine,
                           .identity = &none,
                           .size = sizeof none,
                           .ctx = text};

    MUST(mtask_pool_for(NULL, 0, size, make_small, text));
    int64_t start = mtask_now();
    fold(0, size, &alone, text);
    int64_t middle = mtask_now();
    MUST(mtask_pool_reduce(NULL, &loop, &all, NULL));
    int64_t end = mtask_now();

    bool same = equal(&all, &alone);
    print_table(&all, name);
    printf("one thread: %.3f s; a worker for each CPU: %.3f s; the same: %s\n",
           (double)(middle - start) / 1e9, (double)(end - middle) / 1e9, same ? "yes" : "no");
    free(alone.slots);
    free(all.slots);
    free(text);
    return !same;
}
