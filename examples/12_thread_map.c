// mkdir -p build && cc -O2 -pthread -I. -o build/12_thread_map examples/12_thread_map.c
//
// What thread-locals replace: a global map from the current thread to its student. It works, but
// all threads share it, so that each look into it takes the lock. (The map is stb_ds's.)
//
// Output (any order):
//   Hello, Alice (in Thread-A)
//   Hello, Bob (in Thread-B)
#define MTASK_IMPLEMENTATION
#include "mtask.h"
#include "common.h"

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wsign-conversion"
#pragma GCC diagnostic ignored "-Wshadow"
#pragma GCC diagnostic ignored "-Wunused-parameter"
#define STB_DS_IMPLEMENTATION
#if __has_include("stb_ds.h")
# include "stb_ds.h"
#else
# include <stb/stb_ds.h>
#endif
#pragma GCC diagnostic pop

typedef struct Entry {
    uint64_t key; /* the thread's number */
    const char *value;
} Entry;

static mtask_mutex lock;
static Entry *students; /* a map; guarded by the lock */

static void process_student(void) {
    mtask_thread_info thread = mtask_thread_current();
    MTASK_GUARD(&lock);
    printf("Hello, %s (in %s)\n", hmget(students, thread.id), thread.name);
}

static void *process_thread(void *arg) {
    MUST(mtask_mutex_lock(&lock));
    hmput(students, mtask_thread_current().id, (const char *)arg);
    MUST(mtask_mutex_unlock(&lock));
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

    for (int i = 0; i < 2; i++)
        MUST(mtask_thread_start_ex(&threads[i], &descs[i]));
    for (int i = 0; i < 2; i++)
        MUST(mtask_thread_join(&threads[i], NULL, MTASK_FOREVER));
    hmfree(students);
    return 0;
}
