// mkdir -p build && cc -O2 -pthread -I. -o build/48_gather examples/48_gather.c
//
// gevent.joinall, asyncio.gather: four fetches at once, on one thread. They come as they like, the
// results stand in the order of the calls, and all of it takes as long as the slowest. Then one of
// them fails: that cancels the others at once, since without it nobody needs them. (A sleep stands
// for the network here.)
//
// Output:
//   GET: https://www.python.org/
//   GET: https://www.yahoo.com/
//   GET: https://www.baidu.com/
//   GET: https://www.sina.com.cn/
//   2443 bytes received from https://www.baidu.com/.
//   571512 bytes received from https://www.sina.com.cn/.
//   49083 bytes received from https://www.python.org/.
//   522045 bytes received from https://www.yahoo.com/.
//   MTASK_OK: 49083, 522045, 2443, 571512; cost time: 2.000
//   GET: https://www.python.org/
//   GET: https://www.yahoo.com/
//   GET: https://nowhere.example/
//   GET: https://www.sina.com.cn/
//   MTASK_FAILED: canceled, canceled, no such host: nowhere.example, canceled; cost time: 0.500
#define MTASK_IMPLEMENTATION
#include "mtask_coro.h"
#include "common.h"

enum { PAGES = 4 };

typedef struct Page {
    const char *host;
    double delay; /* seconds until the answer comes */
    intptr_t size;
} Page;

static Page pages[PAGES] = {{"www.python.org", 1.5, 49083},
                            {"www.yahoo.com", 2.0, 522045},
                            {"www.baidu.com", 0.5, 2443},
                            {"www.sina.com.cn", 1.0, 571512}};

static void *fetch(void *arg) {
    const Page *page = (const Page *)arg;
    printf("GET: https://%s/\n", page->host);
    mtask_status status = mtask_sleep(seconds(page->delay));
    if (status != MTASK_OK) /* it is cancelled */
        return mtask_fail(status, "canceled");
    if (page->size == 0)
        return mtask_fail(MTASK_NOT_FOUND, "no such host: %s", page->host);
    printf("%d bytes received from https://%s/.\n", (int)page->size, page->host);
    return (void *)page->size;
}

static void fetch_all(void) {
    mtask_call calls[PAGES];
    mtask_outcome outcomes[PAGES];
    int64_t start = mtask_now();
    for (int i = 0; i < PAGES; i++)
        calls[i] = (mtask_call){fetch, &pages[i]};
    mtask_status status = mtask_gather(calls, PAGES, outcomes);
    printf("%s: ", mtask_status_name(status));
    for (int i = 0; i < PAGES; i++)
        if (outcomes[i].status == MTASK_OK)
            printf("%d%s", (int)(intptr_t)outcomes[i].value, i < PAGES - 1 ? ", " : "; ");
        else
            printf("%s%s", outcomes[i].text, i < PAGES - 1 ? ", " : "; ");
    printf("cost time: %.3f\n", seconds_since(start));
}

static void *program(void *arg) {
    fetch_all();
    pages[2] = (Page){"nowhere.example", 0.5, 0};
    fetch_all();
    return arg;
}

int main(void) {
    MUST(mtask_loop_run(program, NULL, NULL));
    return 0;
}
