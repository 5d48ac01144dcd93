// mkdir -p build && cc -O2 -pthread -I. -o build/80_start_methods examples/80_start_methods.c
//
// The same program under the three methods, set for the whole program (set_method) or for one
// process (Python's contexts). A forked process is a copy: it has the parent's variables as they
// are, and all its descriptors. SPAWN starts this program anew, which is what mtask_proc_init in
// main is for: variables are as at the start, and descriptors are there if they are named.
// FORKSERVER copies a process that was spawned once. What such processes get is bytes; here those
// say where the queue is.
//
// Output:
//   fork: hello; variable: 2; a descriptor that was not named: there
//   spawn: hello; variable: 1; a descriptor that was not named: not there
//   forkserver: hello; variable: 1; a descriptor that was not named: not there
//   context fork: hello; variable: 2; a descriptor that was not named: there
//   context spawn: hello; variable: 1; a descriptor that was not named: not there
//   context forkserver: hello; variable: 1; a descriptor that was not named: not there
#define MTASK_IMPLEMENTATION
#include "mtask_proc.h"
#include "common.h"
#include <fcntl.h>
#include <unistd.h>

enum { CAPACITY = 4 };

typedef struct Word {
    char text[16];
} Word;

MTASK_QUEUE_TYPE(words, Word);

typedef struct Where {
    int arena, other; /* descriptors */
} Where;

static int variable = 1;

/* How to find the queue in an arena, wherever that lies in this process. */
static mtask_queue_desc in_arena(const mtask_arena *arena) {
    return (mtask_queue_desc){.capacity = CAPACITY,
                              .storage = mtask_arena_root(arena),
                              .storage_size = MTASK_QUEUE_STORAGE_SIZE(CAPACITY, sizeof(Word)),
                              .flags = MTASK_SHARED};
}

static mtask_status foo(const void *in, size_t size, mtask_buf *out) {
    const Where *where = (const Where *)in;
    mtask_arena arena;
    words queue;
    (void)size;
    MUST(mtask_arena_attach_fd(&arena, where->arena));
    mtask_queue_desc desc = in_arena(&arena);
    MUST(words_attach(&queue, &desc));
    MUST(words_put(&queue, (Word){"hello"}, MTASK_FOREVER));
    MUST(words_deinit(&queue));
    MUST(mtask_arena_close(&arena));
    return mtask_buf_printf(out, "variable: %d; a descriptor that was not named: %s", variable,
                            fcntl(where->other, F_GETFD) >= 0 ? "there" : "not there");
}

static void run(const char *name, mtask_proc_method method, mtask_arena *arena, words *queue,
                int other) {
    Where where = {arena->memory.fd, other};
    mtask_proc_desc desc = {.call = foo,
                            .in = &where,
                            .in_size = sizeof where,
                            .method = method,
                            .fds = &where.arena,
                            .fd_count = 1};
    mtask_proc *process;
    mtask_buf result = {0};
    Word word;
    MUST(mtask_proc_start_ex(&process, &desc));
    MUST(words_get(queue, &word, MTASK_FOREVER));
    MUST(mtask_proc_join(process, NULL, MTASK_FOREVER));
    MUST(mtask_proc_result(process, &result));
    MUST(mtask_proc_close(process));
    printf("%s: %s; %s\n", name, word.text, result.data);
    mtask_buf_free(&result);
}

int main(int argc, char **argv) {
    static const mtask_proc_method methods[] = {MTASK_PROC_FORK, MTASK_PROC_SPAWN,
                                                MTASK_PROC_FORKSERVER};
    static const char *const names[][2] = {
        {"fork", "context fork"}, {"spawn", "context spawn"}, {"forkserver", "context forkserver"}};
    mtask_arena arena;
    words queue;
    void *storage;
    mtask_proc_init(argc, argv);
    variable = 2;
    int other = dup(STDOUT_FILENO);
    MUST(mtask_arena_create(&arena, NULL, 4096));
    MUST(mtask_arena_alloc(&arena, MTASK_QUEUE_STORAGE_SIZE(CAPACITY, sizeof(Word)), &storage));
    mtask_arena_set_root(&arena, storage);
    mtask_queue_desc desc = in_arena(&arena);
    MUST(words_init_ex(&queue, &desc));
    for (int i = 0; i < 3; i++) {
        MUST(mtask_proc_set_method(methods[i]));
        run(names[i][0], MTASK_PROC_DEFAULT, &arena, &queue, other);
    }
    for (int i = 0; i < 3; i++)
        run(names[i][1], methods[i], &arena, &queue, other);
    MUST(mtask_forkserver_stop());
    MUST(words_deinit(&queue));
    MUST(mtask_arena_close(&arena));
    return 0;
}
