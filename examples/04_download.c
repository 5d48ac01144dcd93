// mkdir -p build && cc -O2 -pthread -I. -o build/04_download examples/04_download.c
//
// Two downloads at once, each of five to ten seconds: together they take as long as the longer one.
//
// Output (any order):
//   Start to download Python from entry to hospital.pdf...
//   Start to download Peking Hot.avi...
//   Python from entry to hospital.pdf downloaded! It took 6.0 seconds
//   Peking Hot.avi downloaded! It took 9.0 seconds
//   In all it took 9.002 seconds
#define MTASK_IMPLEMENTATION
#include "mtask.h"
#include "common.h"

typedef struct DownloadTask {
    mtask_thread thread;
    const char *filename;
    int time_to_download;
} DownloadTask;

static void *run(void *arg) {
    const DownloadTask *task = (const DownloadTask *)arg;
    printf("Start to download %s...\n", task->filename);
    MUST(mtask_sleep(seconds(task->time_to_download)));
    printf("%s downloaded! It took %.1f seconds\n", task->filename, (double)task->time_to_download);
    return NULL;
}

int main(void) {
    DownloadTask tasks[] = {
        {.filename = "Python from entry to hospital.pdf"},
        {.filename = "Peking Hot.avi"},
    };
    int64_t start = mtask_now();

    srand((unsigned)start);
    for (int i = 0; i < 2; i++) {
        tasks[i].time_to_download = 5 + rand() % 6;
        MUST(mtask_thread_start(&tasks[i].thread, run, &tasks[i]));
    }
    for (int i = 0; i < 2; i++)
        MUST(mtask_thread_join(&tasks[i].thread, NULL, MTASK_FOREVER));
    printf("In all it took %.3f seconds\n", seconds_since(start));
    return 0;
}
