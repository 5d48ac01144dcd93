// mkdir -p build && cc -O2 -pthread -I. -o build/17_boss_event examples/17_boss_event.c
//
// Five workers wait for the word of the boss. An event lets all of them go on at once; cleared, it
// holds them up again until the boss speaks for the second time.
//
// Output:
//   BOSS: Tonight everybody works until 22:00.
//   is set: False
//   Worker: Alas, what a life!
//   Worker: Alas, what a life!
//   Worker: Alas, what a life!
//   Worker: Alas, what a life!
//   Worker: Alas, what a life!
//   BOSS: <22:00> You may go home.
//   is set: False
//   Worker: Oh yeah!
//   Worker: Oh yeah!
//   Worker: Oh yeah!
//   Worker: Oh yeah!
//   Worker: Oh yeah!
#define MTASK_IMPLEMENTATION
#include "mtask.h"
#include "common.h"

enum { WORKERS = 5 };

static mtask_event event;

static void speak(const char *text) {
    printf("BOSS: %s\n", text);
    printf("is set: %s\n", mtask_event_is_set(&event) ? "True" : "False");
    mtask_event_set(&event);
}

static void *boss(void *arg) {
    (void)arg;
    speak("Tonight everybody works until 22:00.");
    MUST(mtask_sleep(seconds(5)));
    speak("<22:00> You may go home.");
    return NULL;
}

static void *worker(void *arg) {
    (void)arg;
    MUST(mtask_event_wait(&event, MTASK_FOREVER));
    printf("Worker: Alas, what a life!\n");
    MUST(mtask_sleep(seconds(1)));
    mtask_event_clear(&event);
    MUST(mtask_event_wait(&event, MTASK_FOREVER));
    printf("Worker: Oh yeah!\n");
    return NULL;
}

int main(void) {
    mtask_thread threads[WORKERS + 1] = {0};
    for (int i = 0; i <= WORKERS; i++)
        MUST(mtask_thread_start(&threads[i], i < WORKERS ? worker : boss, NULL));
    for (int i = 0; i <= WORKERS; i++)
        MUST(mtask_thread_join(&threads[i], NULL, MTASK_FOREVER));
    return 0;
}
