// mkdir -p build && cc -O2 -pthread -I. -o build/61_site examples/61_site.c
//
// A crawler: `build/61_site [AT_ONCE]` follows all links of a site, each page once, with at most
// four (or AT_ONCE) requests at a time, and prints the tree that it has found. Each page is a
// task, which starts others for the links in it; a semaphore lets them in, and a group knows when
// all are done. The site is a tree of files that the program makes in a temporary directory, and
// serves itself, each after 0.2 seconds.
//
// Output:
//   / (73 bytes)
//     /fruit/ (63 bytes)
//       /fruit/apple.html (42 bytes)
//       /fruit/pear.html (39 bytes)
//       /fruit/plum.html: 404
//     /tree/ (55 bytes)
//       /tree/oak.html (24 bytes)
//       /tree/pine/ (53 bytes)
//         /tree/pine/cone.html (19 bytes)
//     /list.txt (16 bytes)
//   9 pages, 384 bytes, 1 missing; never more than 4 requests at a time; 1.010 seconds
// Output with 1 (patterns):
//   ^9 pages, 384 bytes, 1 missing; never more than 1 requests? at a time; [0-9.]+ seconds$
#define MTASK_IMPLEMENTATION
#include "mtask_io.h"
#include "common.h"
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char root[] = "/tmp/61_site.XXXXXX"; /* the directory */

static const struct File {
    const char *path, *text; /* a path without a text is a directory */
} files[] = {
    {"/index.html",
     "<h1>Plants</h1> <a href=\"/fruit/\"> <a href=\"/tree/\"> <a href=\"/list.txt\">"},
    {"/fruit", NULL},
    {"/fruit/index.html", "<a href=\"apple.html\"> <a href=\"pear.html\"> <a href=\"plum.html\">"},
    {"/fruit/apple.html", "<a href=\"/\"> <a href=\"pear.html\"> an apple"},
    {"/fruit/pear.html", "<a href=\"http://other.example/\"> a pear"},
    {"/tree", NULL},
    {"/tree/index.html", "<a href=\"oak.html\"> <a href=\"pine/\"> <a href=\"/fruit/\">"},
    {"/tree/oak.html", "<a href=\"/tree/\"> an oak"},
    {"/tree/pine", NULL},
    {"/tree/pine/index.html", "<a href=\"cone.html\"> <a href=\"/tree/oak.html\"> a pine"},
    {"/tree/pine/cone.html", "a cone, and no more"},
    {"/list.txt", "apple, oak, pear"},
};

enum { FILES = sizeof files / sizeof *files };

/* Makes the files, or takes them away. */
static void make_files(bool make) {
    char path[200];
    for (int i = 0; i < FILES; i++) {
        const struct File *file = &files[make ? i : FILES - 1 - i];
        snprintf(path, sizeof path, "%s%s", root, file->path);
        if (!make)
            MUST(remove(path) == 0 ? MTASK_OK : MTASK_SYSTEM);
        else if (file->text == NULL)
            MUST(mkdir(path, 0700) == 0 ? MTASK_OK : MTASK_SYSTEM);
        else
            MUST(mtask_file_save(path, file->text, strlen(file->text)));
    }
}

/* ---- the server of the files ---- */

static void send_file(mtask_stream *stream, const char *path) {
    struct stat about;
    int fd;
    if (mtask_file_open(&fd, path, O_RDONLY, 0) != MTASK_OK) {
        (void)mtask_stream_printf(stream, MTASK_SEC(60), "HTTP/1.0 404 Not Found\r\n\r\n");
        return;
    }
    if (fstat(fd, &about) == 0 && S_ISREG(about.st_mode) &&
        mtask_stream_printf(stream, MTASK_SEC(60), "HTTP/1.0 200 OK\r\n\r\n") == MTASK_OK)
        (void)mtask_stream_sendfile(stream, fd, 0, (size_t)about.st_size, MTASK_SEC(60));
    close(fd);
}

static void serve(mtask_stream *stream, void *ctx) {
    char *line, asked[200] = "", path[250];
    (void)ctx;
    if (mtask_stream_read_line(stream, &line, NULL, MTASK_SEC(60)) != MTASK_OK ||
        sscanf(line, "GET %199s HTTP/", asked) != 1 || asked[0] != '/' ||
        strstr(asked, "..") != NULL)
        return;
    while (mtask_stream_read_line(stream, &line, NULL, MTASK_SEC(60)) == MTASK_OK && *line != '\0')
        continue;
    snprintf(path, sizeof path, "%s%s%s", root, asked,
             asked[strlen(asked) - 1] == '/' ? "index.html" : "");
    MUST(mtask_sleep(seconds(0.2)));
    send_file(stream, path);
}

/* ---- the crawler ---- */

typedef struct Page {
    char path[200];
    int status;
    size_t size;
    struct Page *parent, *next; /* on which it was found first; in the order of finding */
} Page;

/* What follows the tasks share; since they take turns, it needs no lock. */
static Page *first_page, **last_page = &first_page;
static mtask_sem slots; /* this one is for waiting */
static mtask_taskgroup crawl;
static int running, most;
static char address[MTASK_ADDRESS_TEXT];

static void *visit(void *arg);

/* Starts a task for a page, unless it is known. */
static void add_page(const char *path, Page *parent) {
    for (const Page *page = first_page; page != NULL; page = page->next)
        if (strcmp(page->path, path) == 0)
            return;
    Page *page = (Page *)calloc(1, sizeof *page);
    MUST(page != NULL ? MTASK_OK : MTASK_NOMEM);
    snprintf(page->path, sizeof page->path, "%s", path);
    page->parent = parent;
    *last_page = page;
    last_page = &page->next;
    MUST(mtask_taskgroup_go(&crawl, visit, page, NULL));
}

/* Adds the pages to which the text links. */
static void follow_links(Page *page, char *text) {
    static const char mark[] = "<a href=\"";
    char path[200];
    for (char *link = text; (link = strstr(link, mark)) != NULL;) {
        char *name = link + sizeof mark - 1;
        link = name + strcspn(name, "\"");
        int directory = (int)(strrchr(page->path, '/') + 1 - page->path);
        if (*link == '\0' || memmem(name, (size_t)(link - name), "://", 3) != NULL)
            continue; /* leads to another site */
        snprintf(path, sizeof path, "%.*s%.*s", *name == '/' ? 0 : directory, page->path,
                 (int)(link - name), name);
        add_page(path, page);
    }
}

/* Fetches a page; its text lies in the stream. */
static void fetch(Page *page, mtask_stream *stream) {
    const char *data;
    char *line, *text;
    MUST(mtask_stream_printf(stream, MTASK_SEC(60), "GET %s HTTP/1.0\r\n\r\n", page->path));
    MUST(mtask_stream_read_line(stream, &line, NULL, MTASK_SEC(60)));
    sscanf(line, "HTTP/1.0 %d", &page->status);
    while (mtask_stream_read_line(stream, &line, NULL, MTASK_SEC(60)) == MTASK_OK && *line != '\0')
        continue;
    mtask_status end = mtask_stream_fill(stream, 60000, &data, &page->size, MTASK_SEC(60));
    MUST(end == MTASK_CLOSED ? MTASK_OK : end == MTASK_OK ? MTASK_OVERFLOW : end);
    text = strndup(data, page->size);
    MUST(text != NULL ? MTASK_OK : MTASK_NOMEM);
    if (page->status == 200)
        follow_links(page, text);
    free(text);
}

static void *visit(void *arg) {
    Page *page = (Page *)arg;
    mtask_stream *stream;
    MUST(mtask_sem_acquire(&slots, MTASK_FOREVER));
    most = ++running > most ? running : most;
    MUST(mtask_stream_connect(&stream, address, NULL, MTASK_SEC(60)));
    fetch(page, stream);
    mtask_stream_destroy(stream);
    running--;
    MUST(mtask_sem_release(&slots, 1));
    return NULL;
}

/* ---- what it has found ---- */

static void print_tree(const Page *parent, int depth) {
    for (const Page *page = first_page; page != NULL; page = page->next) {
        if (page->parent != parent)
            continue;
        if (page->status == 200)
            printf("%*s%s (%zu bytes)\n", 2 * depth, "", page->path, page->size);
        else
            printf("%*s%s: %d\n", 2 * depth, "", page->path, page->status);
        print_tree(page, depth + 1);
    }
}

static void print_sums(int64_t start) {
    int found = 0, missing = 0;
    size_t bytes = 0;
    for (Page *page = first_page, *next; page != NULL; page = next) {
        next = page->next;
        *(page->status == 200 ? &found : &missing) += 1;
        bytes += page->size;
        free(page);
    }
    printf(
        "%d pages, %zu bytes, %d missing; never more than %d request%s at a time; %.3f seconds\n",
        found, bytes, missing, most, most == 1 ? "" : "s", seconds_since(start));
}

static void *program(void *at_once) {
    mtask_server *server;
    mtask_address at;
    int64_t start = mtask_now();
    MUST(mtask_sem_init(&slots, *(int *)at_once, *(int *)at_once, MTASK_PRIVATE));
    MUST(mtask_server_start(&server, "127.0.0.1:0", serve, NULL));
    MUST(mtask_server_address(server, &at));
    mtask_address_text(&at, address, sizeof address);
    MUST(mtask_taskgroup_begin(&crawl));
    add_page("/", NULL);
    MUST(mtask_taskgroup_end(&crawl, NULL)); /* also those that its tasks have started */
    MUST(mtask_server_destroy(server));
    print_tree(NULL, 0);
    print_sums(start);
    return NULL;
}

int main(int argc, char **argv) {
    int at_once = argc > 1 && atoi(argv[1]) > 0 ? atoi(argv[1]) : 4;
    MUST(mkdtemp(root) != NULL ? MTASK_OK : MTASK_SYSTEM);
    make_files(true);
    MUST(mtask_loop_run(program, &at_once, NULL));
    make_files(false);
    MUST(rmdir(root) == 0 ? MTASK_OK : MTASK_SYSTEM);
    return 0;
}
