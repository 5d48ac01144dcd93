// mkdir -p build && cc -O2 -pthread -I. -o build/65_offload examples/65_offload.c
//
// What blocks goes to a thread, and the loop goes on. A heart that beats each tenth of a second
// shows it: it is still while a task sleeps by nanosleep, which knows nothing of loops; it beats
// while the same is off-loaded. With a limit of time, the function works on a copy of its data:
// when the time is over, it goes on alone, and what it writes then hurts nobody. Files are read
// and written by threads, too: here many at once, each made anew as a whole.
//
// Output:
//   blocking: 1.000 seconds, the heart is still: yes
//   off-loaded: 1.000 seconds, the heart beats: yes; the answer is 42
//   off-loaded, within 60 seconds: MTASK_OK, the answer is 43
//   off-loaded, within 0.2 seconds: MTASK_TIMEOUT, the answer is 43
//   (and later, alone: the answer would be 44)
//   20 files saved, 20 loaded, 2000 bytes, all as they were: yes
#define MTASK_IMPLEMENTATION
#include "mtask_io.h"
#include "common.h"
#include <string.h>
#include <time.h>
#include <unistd.h>

static int beats;

static void *beat(void *arg) {
    while (mtask_sleep(seconds(0.1)) == MTASK_OK)
        beats++;
    return arg;
}

/* Stands for what blocks: a library, a driver, a data base ... */
static void *think(void *arg) {
    int64_t time = seconds(1);
    struct timespec left = {.tv_sec = (time_t)(time / MTASK_SEC(1)),
                            .tv_nsec = (long)(time % MTASK_SEC(1))};
    nanosleep(&left, NULL);
    *(int *)arg += 1;
    return arg;
}

/* ---- functions that block ---- */

static mtask_event dropped;

/* Called for the copy of the data, when its function has ended too late. */
static void drop(void *data) {
    printf("(and later, alone: the answer would be %d)\n", *(int *)data);
    mtask_event_set(&dropped);
}

static void show_functions(void) {
    int answer = 40, before = beats;
    int64_t start = mtask_now();
    think(&answer);
    printf("blocking: %.3f seconds, the heart is still: %s\n", seconds_since(start),
           beats == before ? "yes" : "no");

    start = mtask_now();
    before = beats;
    MUST(mtask_offload(think, &answer, NULL)); /* always until its end: so this may use the stack */
    printf("off-loaded: %.3f seconds, the heart beats: %s; the answer is %d\n",
           seconds_since(start), beats > before ? "yes" : "no", answer);

    mtask_status status =
        mtask_offload_for(think, &answer, sizeof answer, drop, NULL, MTASK_SEC(60));
    printf("off-loaded, within 60 seconds: %s, the answer is %d\n", mtask_status_name(status),
           answer);
    status = mtask_offload_for(think, &answer, sizeof answer, drop, NULL, seconds(0.2));
    printf("off-loaded, within 0.2 seconds: %s, the answer is %d\n", mtask_status_name(status),
           answer);
    if (status != MTASK_OK)
        MUST(mtask_event_wait(&dropped, MTASK_FOREVER));
}

/* ---- files ---- */

enum { FILES = 20, FILE_SIZE = 100 };

static char directory[] = "/tmp/65_offload.XXXXXX";
static size_t saved, loaded, bytes;
static bool same = true;

static void *save_and_load(void *arg) {
    char path[60], text[FILE_SIZE], *data;
    size_t size;
    snprintf(path, sizeof path, "%s/%d", directory, (int)(intptr_t)arg);
    memset(text, 'a' + (int)(intptr_t)arg, sizeof text);
    MUST(mtask_file_save(path, text, sizeof text)); /* others see the whole file, or none */
    saved++;
    MUST(mtask_file_load(path, 1000, &data, &size));
    loaded++;
    bytes += size;
    same = same && size == sizeof text && memcmp(text, data, size) == 0;
    mtask_file_free(data);
    MUST(unlink(path) == 0 ? MTASK_OK : MTASK_SYSTEM);
    return NULL;
}

static void show_files(void) {
    mtask_taskgroup all;
    MUST(mkdtemp(directory) != NULL ? MTASK_OK : MTASK_SYSTEM);
    MUST(mtask_taskgroup_begin(&all));
    for (int i = 0; i < FILES; i++)
        MUST(mtask_taskgroup_go(&all, save_and_load, (void *)(intptr_t)i, NULL));
    MUST(mtask_taskgroup_end(&all, NULL));
    MUST(rmdir(directory) == 0 ? MTASK_OK : MTASK_SYSTEM);
    printf("%zu files saved, %zu loaded, %zu bytes, all as they were: %s\n", saved, loaded, bytes,
           same ? "yes" : "no");
}

static void *program(void *arg) {
    MUST(mtask_go(beat, NULL, NULL)); /* until the end: then it is cancelled */
    show_functions();
    show_files();
    return arg;
}

int main(void) {
    MUST(mtask_loop_run(program, NULL, NULL));
    return 0;
}
