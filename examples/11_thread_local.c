// mkdir -p build && cc -O2 -pthread -I. -o build/11_thread_local examples/11_thread_local.c
//
// One global name, a value of its own for each thread: no function has to pass the student on, and
// no lock is needed. The value is freed when its thread ends.
//
// Output (any order):
//   Hello, Alice (in Thread-A)
//   Hello, Bob (in Thread-B)
#define MTASK_IMPLEMENTATION
#include "mtask.h"
#include "common.h"
#include <string.h>

static mtask_local local_school;

static void process_student(void) {
    const char *student = (const char *)mtask_local_get(&local_school);
    printf("Hello, %s (in %s)\n", student, mtask_thread_current().name);
}

static void *process_thread(void *arg) {
    size_t size = strlen((const char *)arg) + 1;
    char *student = (char *)malloc(size);
    if (student == NULL)
        return mtask_fail(MTASK_NOMEM, "no room for a student");
    memcpy(student, arg, size);
    MUST(mtask_local_set(&local_school, student));
    process_student();
    return NULL;
}

int main(void) {
    char alice[] = "Alice", bob[] = "Bob";
    mtask_thread threads[2] = {0};
    mtask_thread_desc descs[2] = {
        {.fn = process_thread, .arg = alice, .name = "Thread-A"},
        {.fn = process_thread, .arg = bob, .name = "Thread-B"},
    };

    MUST(mtask_local_init(&local_school, free));
    for (int i = 0; i < 2; i++)
        MUST(mtask_thread_start_ex(&threads[i], &descs[i]));
    for (int i = 0; i < 2; i++)
        MUST(mtask_thread_join(&threads[i], NULL, MTASK_FOREVER));
    MUST(mtask_local_deinit(&local_school));
    return 0;
}
