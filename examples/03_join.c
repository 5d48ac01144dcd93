// mkdir -p build && cc -O2 -pthread -I. -o build/03_join examples/03_join.c
//
// Two threads, music for three seconds and a blog for five; where does main join them? After each
// start, only the first, only the last, or none; or the blog is a daemon. Whoever is not joined is
// waited for by mtask_thread_join_all at the end of main, unless it is a daemon: that ends with it.
//
// Output with each:
//   Begin listening to The Sailor. (0.0 s)
//   end listening (3.0 s)
//   Begin recording the threads! (3.0 s)
//   end recording (8.0 s)
//   all over (8.0 s)
// Output with first (any order):
//   Begin listening to The Sailor. (0.0 s)
//   Begin recording the threads! (0.0 s)
//   end listening (3.0 s)
//   all over (3.0 s)
//   end recording (5.0 s)
// Output with last (any order):
//   Begin listening to The Sailor. (0.0 s)
//   Begin recording the threads! (0.0 s)
//   end listening (3.0 s)
//   end recording (5.0 s)
//   all over (5.0 s)
// Output with none (any order):
//   Begin listening to The Sailor. (0.0 s)
//   Begin recording the threads! (0.0 s)
//   all over (0.0 s)
//   end listening (3.0 s)
//   end recording (5.0 s)
// Output with daemon (any order):
//   Begin listening to The Sailor. (0.0 s)
//   Begin recording the threads! (0.0 s)
//   all over (0.0 s)
//   end listening (3.0 s)
#define MTASK_IMPLEMENTATION
#include "mtask.h"
#include "common.h"
#include <string.h>

static int64_t began;

static void *listen_music(void *arg) {
    printf("Begin listening to %s. (%.1f s)\n", (const char *)arg, seconds_since(began));
    MUST(mtask_sleep(seconds(3)));
    printf("end listening (%.1f s)\n", seconds_since(began));
    return NULL;
}

static void *record_blog(void *arg) {
    printf("Begin recording the %s! (%.1f s)\n", (const char *)arg, seconds_since(began));
    MUST(mtask_sleep(seconds(5)));
    printf("end recording (%.1f s)\n", seconds_since(began));
    return NULL;
}

int main(int argc, char **argv) {
    const char *where = argc > 1 ? argv[1] : "none";
    static char song[] = "The Sailor", title[] = "threads";
    static mtask_thread threads[2];
    mtask_thread_desc descs[2] = {
        {.fn = listen_music, .arg = song},
        {.fn = record_blog, .arg = title, .daemon = strcmp(where, "daemon") == 0},
    };

    began = mtask_now();
    for (int i = 0; i < 2; i++) {
        MUST(mtask_thread_start_ex(&threads[i], &descs[i]));
        if (strcmp(where, "each") == 0)
            MUST(mtask_thread_join(&threads[i], NULL, MTASK_FOREVER));
    }
    if (strcmp(where, "first") == 0)
        MUST(mtask_thread_join(&threads[0], NULL, MTASK_FOREVER));
    if (strcmp(where, "last") == 0)
        MUST(mtask_thread_join(&threads[1], NULL, MTASK_FOREVER));
    printf("all over (%.1f s)\n", seconds_since(began));
    for (int i = 0; i < 2; i++)
        (void)mtask_thread_detach(&threads[i]); /* refused if it was joined: nothing is left */
    MUST(mtask_thread_join_all(MTASK_FOREVER));
    return 0;
}
