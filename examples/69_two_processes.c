// mkdir -p build && cc -O2 -pthread -I. -o build/69_two_processes examples/69_two_processes.c
//
// Two downloads at once, each of five to ten seconds, in a process of its own (04_download.c has
// threads): together they take as long as the longer one. What a process's function returns is its
// outcome's value, as with a thread.
//
// Output (patterns):
//   ^Download process \[[0-9]+\]: starts to download P.*\.\.\.$
//   ^Download process \[[0-9]+\]: starts to download P.*\.\.\.$
//   ^P.* downloaded! It took [0-9]+ seconds$
//   ^P.* downloaded! It took [0-9]+ seconds$
//   ^In all it took [0-9.]+ seconds; less than one after the other: yes$
#define MTASK_IMPLEMENTATION
#include "mtask_proc.h"
#include "common.h"
#include <unistd.h>

static void *download_task(void *arg) {
    const char *filename = (const char *)arg;
    unsigned random = (unsigned)getpid();
    printf("Download process [%d]: starts to download %s...\n", (int)getpid(), filename);
    fflush(stdout); /* otherwise it is written when the process ends */
    int time_to_download = 5 + rand_r(&random) % 6;
    MUST(mtask_sleep(seconds(time_to_download)));
    printf("%s downloaded! It took %d seconds\n", filename, time_to_download);
    return (void *)(intptr_t)time_to_download;
}

int main(void) {
    const char *filenames[] = {"Python from entry to hospital.pdf", "Peking Hot.avi"};
    mtask_proc *processes[2];
    intptr_t sum = 0;
    int64_t start = mtask_now();

    for (int i = 0; i < 2; i++)
        MUST(mtask_proc_start(&processes[i], download_task, (void *)filenames[i]));
    for (int i = 0; i < 2; i++) {
        mtask_outcome outcome;
        MUST(mtask_proc_join(processes[i], &outcome, MTASK_FOREVER));
        MUST(mtask_proc_close(processes[i]));
        sum += (intptr_t)outcome.value;
    }
    double all = seconds_since(start);
    printf("In all it took %.3f seconds; less than one after the other: %s\n", all,
           all < (double)sum ? "yes" : "no");
    return 0;
}
