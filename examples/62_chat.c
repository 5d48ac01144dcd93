// mkdir -p build && cc -O2 -pthread -I. -o build/62_chat examples/62_chat.c
//
// A chat server with topics. Who connects says a name, and then `join TOPIC` or `say TOPIC TEXT`,
// a line each. All that is published goes through one queue, into which everybody puts: the tasks
// of the connections, and ordinary threads, here a thermometer and a news agency. One task gets it
// there and puts it into the queue of each subscriber, from which a task of its own writes to the
// connection. So who reads slowly keeps nobody waiting: when his queue is full, he misses
// something.
//
// `build/62_chat ADDRESS` serves there, for nc or telnet, until Ctrl-C. Otherwise Ann and Ben
// come.
//
// Output (in order by first word):
//   Ann: joined weather
//   Ann: joined talk
//   Ben: joined talk
//   Ben: joined news
//   Ann: [talk] Ben: hello
//   Ben: [talk] Ben: hello
//   Ann: [weather] thermometer: 19 degrees
//   Ann: [weather] thermometer: 20 degrees
//   Ann: [weather] thermometer: 21 degrees
//   Ben: [news] agency: much
//   Ben: [news] agency: little
//   Ben: [news] agency: nothing
//   server: 7 messages, delivered 8 times, missed 0 times
#define MTASK_IMPLEMENTATION
#include "mtask_io.h"
#include "mtask_queue.h"
#include "common.h"
#include <string.h>

enum { NAME_SIZE = 32, TOPICS = 8, INBOX = 16 };

typedef struct Message {
    char topic[NAME_SIZE], text[300];
} Message;

MTASK_QUEUE_TYPE(messages, Message);

typedef struct Client {
    char name[NAME_SIZE], topics[TOPICS][NAME_SIZE];
    int topic_count;
    messages inbox;
    mtask_stream *stream;
    struct Client *next;
} Client;

static messages published; /* by tasks and threads */

/* What follows only tasks of one loop use: since they take turns, it needs no lock. */
static Client *clients;
static int message_count, deliveries, misses;

/* ---- the server ---- */

static bool is_subscriber(const Client *client, const char *topic) {
    for (int i = 0; i < client->topic_count; i++)
        if (strcmp(client->topics[i], topic) == 0)
            return true;
    return false;
}

/* Gives each message to its subscribers, until the queue is closed. */
static void *distribute(void *arg) {
    Message message;
    for (; messages_get(&published, &message, MTASK_FOREVER) == MTASK_OK; message_count++)
        for (Client *client = clients; client != NULL; client = client->next)
            if (is_subscriber(client, message.topic))
                *(messages_put(&client->inbox, message, MTASK_NOWAIT) == MTASK_OK ? &deliveries
                                                                                  : &misses) += 1;
    for (Client *client = clients; client != NULL; client = client->next)
        (void)messages_close(&client->inbox);
    return arg;
}

static void *write_messages(void *arg) {
    Client *client = (Client *)arg;
    Message message;
    while (messages_get(&client->inbox, &message, MTASK_FOREVER) == MTASK_OK)
        if (mtask_stream_printf(client->stream, MTASK_SEC(60), "[%s] %s\n", message.topic,
                                message.text) != MTASK_OK)
            return NULL;
    (void)mtask_stream_shutdown(client->stream, MTASK_SEC(60)); /* no more comes */
    return NULL;
}

static void obey(Client *client, const char *line) {
    Message message;
    int text = 0;
    const char *answer = "what?";
    if (sscanf(line, "join %31s", message.topic) == 1 && client->topic_count < TOPICS) {
        strcpy(client->topics[client->topic_count++], message.topic);
        answer = "joined ";
    } else if (sscanf(line, "say %31s %n", message.topic, &text) == 1 && text > 0) {
        snprintf(message.text, sizeof message.text, "%s: %s", client->name, line + text);
        if (messages_put(&published, message, MTASK_FOREVER) == MTASK_OK) /* parks, if it is full */
            return;
    }
    (void)mtask_stream_printf(client->stream, MTASK_SEC(60), "%s%s\n", answer,
                              *answer == 'j' ? message.topic : "");
}

static void remove_client(const Client *client) {
    Client **link = &clients;
    while (*link != client)
        link = &(*link)->next;
    *link = client->next;
}

static void serve(mtask_stream *stream, void *ctx) {
    Client client = {.stream = stream};
    mtask_taskgroup writer;
    char *line;
    (void)ctx;
    if (mtask_stream_idle(stream, MTASK_SEC(60)) != MTASK_OK ||
        mtask_stream_read_line(stream, &line, NULL, MTASK_SEC(60)) != MTASK_OK)
        return;
    snprintf(client.name, sizeof client.name, "%s", line);
    MUST(messages_init(&client.inbox, INBOX));
    client.next = clients;
    clients = &client;
    MUST(mtask_taskgroup_begin(&writer));
    MUST(mtask_taskgroup_go(&writer, write_messages, &client, NULL));
    while (mtask_stream_idle(stream, MTASK_FOREVER) == MTASK_OK &&
           mtask_stream_read_line(stream, &line, NULL, MTASK_SEC(60)) == MTASK_OK)
        obey(&client, line);
    remove_client(&client);
    (void)messages_close(&client.inbox); /* the writer ends when it is empty */
    (void)mtask_taskgroup_end(&writer, NULL);
    (void)messages_discard(&client.inbox, NULL, NULL, NULL);
    MUST(messages_deinit(&client.inbox));
}

/* ---- who comes ---- */

typedef struct Guest {
    const char *name, *topics[2], *words;
    char address[MTASK_ADDRESS_TEXT];
} Guest;

static Guest guests[] = {{"Ann", {"weather", "talk"}, NULL, ""},
                         {"Ben", {"talk", "news"}, "say talk hello", ""}};
static mtask_barrier all_joined;
static mtask_event greeted;

static void *visit(void *arg) {
    const Guest *guest = (const Guest *)arg;
    mtask_stream *stream;
    char *line;
    MUST(mtask_stream_connect(&stream, guest->address, NULL, MTASK_SEC(60)));
    MUST(mtask_stream_printf(stream, MTASK_SEC(60), "%s\njoin %s\njoin %s\n", guest->name,
                             guest->topics[0], guest->topics[1]));
    for (int i = 0; mtask_stream_read_line(stream, &line, NULL, MTASK_SEC(60)) == MTASK_OK; i++) {
        printf("%s: %s\n", guest->name, line);
        if (i == 1)
            MUST(mtask_barrier_wait(&all_joined, NULL, MTASK_FOREVER));
        if (i == 1 && guest->words != NULL)
            MUST(mtask_stream_printf(stream, MTASK_SEC(60), "%s\n", guest->words));
        if (i == 2)
            mtask_event_set(&greeted);
    }
    mtask_stream_destroy(stream);
    return NULL;
}

/* ---- threads that publish ---- */

typedef struct Publisher {
    const char *topic, *texts[3];
} Publisher;

static Publisher publishers[] = {
    {"weather", {"thermometer: 19 degrees", "thermometer: 20 degrees", "thermometer: 21 degrees"}},
    {"news", {"agency: much", "agency: little", "agency: nothing"}}};

static void *publish(void *arg) {
    const Publisher *publisher = (const Publisher *)arg;
    Message message;
    for (int i = 0; i < 3; i++) {
        MUST(mtask_sleep(seconds(0.3))); /* blocks this thread */
        snprintf(message.topic, sizeof message.topic, "%s", publisher->topic);
        snprintf(message.text, sizeof message.text, "%s", publisher->texts[i]);
        MUST(messages_put(&published, message, MTASK_FOREVER));
    }
    return NULL;
}

/* ---- all together ---- */

static void demonstrate(void) {
    mtask_server *server;
    mtask_taskgroup visits;
    mtask_address at;
    mtask_thread threads[2] = {0};
    MUST(mtask_barrier_init(&all_joined, 2, NULL, NULL, MTASK_PRIVATE));
    MUST(mtask_server_start(&server, "127.0.0.1:0", serve, NULL));
    MUST(mtask_server_address(server, &at));
    MUST(mtask_taskgroup_begin(&visits));
    for (int i = 0; i < 2; i++) {
        mtask_address_text(&at, guests[i].address, sizeof guests[i].address);
        MUST(mtask_taskgroup_go(&visits, visit, &guests[i], NULL));
    }
    MUST(mtask_event_wait(&greeted, MTASK_FOREVER));
    for (int i = 0; i < 2; i++)
        MUST(mtask_thread_start(&threads[i], publish, &publishers[i]));
    for (int i = 0; i < 2; i++)
        MUST(mtask_thread_join(&threads[i], NULL, MTASK_FOREVER)); /* parks this task */
    MUST(messages_close(&published));
    MUST(mtask_taskgroup_end(&visits, NULL));
    MUST(mtask_server_destroy(server));
}

static void *program(void *address) {
    mtask_serve_desc desc = {.signals = true};
    mtask_future *distributor;
    MUST(mtask_go(distribute, NULL, &distributor));
    if (address == NULL)
        demonstrate();
    else
        MUST(mtask_serve((const char *)address, serve, &desc)); /* on this loop */
    (void)messages_close(&published);
    MUST(mtask_future_wait(distributor, MTASK_FOREVER));
    mtask_future_release(distributor);
    return NULL;
}

int main(int argc, char **argv) {
    (void)argc;
    MUST(messages_init(&published, 100));
    MUST(mtask_loop_run(program, argv[1], NULL));
    MUST(messages_deinit(&published));
    printf("server: %d messages, delivered %d times, missed %d times\n", message_count, deliveries,
           misses);
    return 0;
}
