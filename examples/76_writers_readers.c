// mkdir -p build && cc -O2 -pthread -I. -o build/76_writers_readers examples/76_writers_readers.c
//
// Processes that write into a queue, and processes that read from it: one of each, then two and
// two. The readers' loops have no end: they are terminated when all has been read. Python's queue
// may be broken by that; this one is whole after it, whatever a reader was doing.
//
// Output (patterns):
//   ^one and one: every value was got once: yes; the reader ended with -15: yes$
//   ^two and two: every value was got once: yes; the readers ended with -15: yes$
//   ^the queue is whole: it takes 10 and gives 10$
#define MTASK_IMPLEMENTATION
#include "mtask_proc.h"
#include "common.h"
#include <unistd.h>

enum { CAPACITY = 16, MOST = 2 };

MTASK_QUEUE_TYPE(letters, char);

typedef struct Shared {
    MTASK_QUEUE_STORAGE(storage, CAPACITY, 1);
    mtask_word got[128]; /* how often each letter was got */
} Shared;

static mtask_shm memory;
static Shared *shared;
static letters queue;

static void *write_letters(void *arg) {
    unsigned random = (unsigned)getpid();
    printf("Process to write: %d\n", (int)getpid());
    for (const char *value = (const char *)arg; *value != '\0'; value++) {
        printf("%d: Put %c to queue...\n", (int)getpid(), *value);
        MUST(letters_put(&queue, *value, MTASK_FOREVER));
        MUST(mtask_sleep(seconds((double)rand_r(&random) / RAND_MAX)));
    }
    return NULL;
}

static void *read_letters(void *arg) {
    char value;
    (void)arg;
    printf("Process to read: %d\n", (int)getpid());
    for (;;) {
        MUST(letters_get(&queue, &value, MTASK_FOREVER));
        printf("%d: Get %c from queue.\n", (int)getpid(), value);
        mtask_word_add(&shared->got[(unsigned char)value], 1);
        MUST(letters_task_done(&queue));
    }
    return NULL;
}

/* Starts a writer of each text, and as many readers; returns whether all went as it should. */
static void run(const char *name, const char *readers_name, const char *const *texts, int count) {
    mtask_proc *writers[MOST], *readers[MOST];
    bool once = true, terminated = true;
    for (int i = 0; i < count; i++) {
        MUST(mtask_proc_start(&writers[i], write_letters, (void *)texts[i]));
        MUST(mtask_proc_start(&readers[i], read_letters, NULL));
    }
    for (int i = 0; i < count; i++) {
        MUST(mtask_proc_join(writers[i], NULL, MTASK_FOREVER));
        MUST(mtask_proc_close(writers[i]));
    }
    MUST(letters_join(&queue, MTASK_FOREVER)); /* all that was put has been worked on */
    for (int i = 0; i < count; i++) {
        int code;
        MUST(mtask_proc_terminate(readers[i]));
        (void)mtask_proc_join(readers[i], NULL, MTASK_FOREVER);
        MUST(mtask_proc_exitcode(readers[i], &code));
        MUST(mtask_proc_close(readers[i]));
        terminated = terminated && code == -15;
        for (const char *value = texts[i]; *value != '\0'; value++)
            once = once && mtask_word_load(&shared->got[(unsigned char)*value]) == 1;
    }
    printf("%s: every value was got once: %s; the %s ended with -15: %s\n", name,
           once ? "yes" : "no", readers_name, terminated ? "yes" : "no");
}

int main(void) {
    const char *one[] = {"ABC"}, *two[] = {"123", "456"};
    int put = 0, got = 0;
    char value;
    setvbuf(stdout, NULL, _IOLBF, BUFSIZ); /* what is terminated has written what it printed */
    MUST(mtask_shm_create(&memory, NULL, sizeof *shared));
    shared = (Shared *)memory.data;
    mtask_queue_desc desc = {.capacity = CAPACITY,
                             .storage = shared->storage,
                             .storage_size = sizeof shared->storage,
                             .flags = MTASK_SHARED};
    MUST(letters_init_ex(&queue, &desc));
    run("one and one", "reader", one, 1);
    run("two and two", "readers", two, 2);
    while (put < 10 && letters_put(&queue, 'x', MTASK_NOWAIT) == MTASK_OK)
        put++;
    while (letters_get(&queue, &value, MTASK_NOWAIT) == MTASK_OK)
        got++;
    printf("the queue is whole: it takes %d and gives %d\n", put, got);
    MUST(letters_deinit(&queue));
    MUST(mtask_shm_close(&memory));
    return 0;
}
