// mkdir -p build && cc -O2 -pthread -I. -o build/05_crawl examples/05_crawl.c
//
// Three pages are crawled by three threads; waiting for the network overlaps, so that all of it
// takes the two seconds of one page.
//
// Output (any order):
//   crawl started for https://python.org
//   crawl started for https://docs.python.org
//   crawl started for https://peps.python.org
//   crawl ended for https://python.org
//   crawl ended for https://docs.python.org
//   crawl ended for https://peps.python.org
//   3 pages in 2.001 seconds
#define MTASK_IMPLEMENTATION
#include "mtask.h"
#include "common.h"

enum { LINKS = 3 };

typedef struct Crawl {
    const char *link;
    double delay;
} Crawl;

static void *crawl(void *arg) {
    const Crawl *page = (const Crawl *)arg;
    printf("crawl started for %s\n", page->link);
    MUST(mtask_sleep(seconds(page->delay))); /* stands for the wait for the network */
    printf("crawl ended for %s\n", page->link);
    return NULL;
}

int main(void) {
    Crawl pages[LINKS] = {
        {"https://python.org", 2}, {"https://docs.python.org", 2}, {"https://peps.python.org", 2}};
    mtask_thread threads[LINKS] = {0};
    int64_t start = mtask_now();

    for (int i = 0; i < LINKS; i++)
        MUST(mtask_thread_start(&threads[i], crawl, &pages[i]));
    for (int i = 0; i < LINKS; i++)
        MUST(mtask_thread_join(&threads[i], NULL, MTASK_FOREVER));
    printf("%d pages in %.3f seconds\n", LINKS, seconds_since(start));
    return 0;
}
