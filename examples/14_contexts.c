// mkdir -p build && cc -O2 -pthread -I. -o build/14_contexts examples/14_contexts.c
//
// Enter and exit of your own, with MTASK_DEFER: what it names is called at the end of the scope,
// the last one first. A pair that speaks, one that cleans up after an error, a lock that tells what
// it does, two files at once, and closing what was opened.
//
// Output:
//   enter
//   hello world
//   exit
//   enter
//   error: nothing came of it
//   exit
//   Locking
//   Lock is locked: True
//   Doing something that needs locking
//   Releasing
//   Lock is locked: False
//   copied: hello world
//   close the writer
//   close the reader
#define MTASK_IMPLEMENTATION
#include "mtask.h"
#include "common.h"

static void leave(void *arg) {
    (void)arg;
    printf("exit\n");
}

static mtask_status speak(const char *text) {
    printf("enter\n");
    MTASK_DEFER(leave, NULL);
    if (text == NULL) {
        printf("error: nothing came of it\n");
        return MTASK_FAILED;
    }
    printf("%s\n", text);
    return MTASK_OK;
}

static void loud_unlock(void *lock) {
    printf("Releasing\n");
    MUST(mtask_mutex_unlock((mtask_mutex *)lock));
}

static void loud_lock(mtask_mutex *lock) {
    printf("Locking\n");
    MUST(mtask_mutex_lock(lock));
}

/* A guard of your own: the two halves in one word. */
#define LOUD_LOCK(lock)                                                                            \
 loud_lock(lock);                                                                                  \
 MTASK_DEFER(loud_unlock, (lock))

static void print_locked(const mtask_mutex *lock) {
    printf("Lock is locked: %s\n", mtask_mutex_is_locked(lock) ? "True" : "False");
}

static void work(mtask_mutex *lock) {
    LOUD_LOCK(lock);
    print_locked(lock);
    printf("Doing something that needs locking\n");
}

typedef struct Closing {
    FILE *file;
    const char *name;
} Closing;

static void closing(void *arg) {
    Closing *self = (Closing *)arg;
    printf("close the %s\n", self->name);
    if (self->file != NULL)
        fclose(self->file);
}

static bool copy_hello(void) {
    char text[32] = "";
    Closing reader = {tmpfile(), "reader"};
    MTASK_DEFER(closing, &reader);
    Closing writer = {tmpfile(), "writer"};
    MTASK_DEFER(closing, &writer);

    if (reader.file == NULL || writer.file == NULL || fputs("hello world", reader.file) < 0)
        return false;
    rewind(reader.file);
    if (fgets(text, sizeof text, reader.file) == NULL || fputs(text, writer.file) < 0)
        return false;
    printf("copied: %s\n", text);
    return true;
}

int main(void) {
    mtask_mutex lock = {0};
    MUST(speak("hello world"));
    if (speak(NULL) != MTASK_FAILED)
        return EXIT_FAILURE;
    work(&lock);
    print_locked(&lock);
    return copy_hello() ? 0 : EXIT_FAILURE;
}
