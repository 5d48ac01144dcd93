/* test_mtask_net.c - where sockets are: addresses and their look-up; how they meet: connections and
   datagrams
   testing-ldflags: -Wl,--wrap=getaddrinfo */
#include "testing_io.h"

#include <arpa/inet.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <stddef.h>
#include <sys/resource.h>
#include <sys/stat.h>

/* Longer than any test takes: what ends such a wait is not the time. */
#define LONG MTASK_SEC(100000)

#define COUNT_OF(array) ((long)(sizeof(array) / sizeof(array)[0]))

/* ---- names that only this program knows ---- */

/* What a name under .test is answered with: an error, or some hosts. */
static struct {
    mtask_word calls;     /* of getaddrinfo, for whatever name */
    mtask_word inside;    /* how many look-ups of slow.test have begun */
    mtask_word left;      /* how many of them have ended */
    mtask_event gate;     /* for which they wait */
    const char *hosts[4]; /* of several.test, in this order */
} fake;

int __real_getaddrinfo(const char *node, const char *service, const struct addrinfo *hints,
                       struct addrinfo **result);
int __wrap_getaddrinfo(const char *node, const char *service, const struct addrinfo *hints,
                       struct addrinfo **result);

/* Adds an address to the end of the list. */
static void fake_add(struct addrinfo **end, const char *host, const char *service,
                     const struct addrinfo *hints) {
    struct addrinfo numeric = *hints;
    while (*end != NULL)
        end = &(*end)->ai_next;
    numeric.ai_flags |= AI_NUMERICHOST;
    testing_check(__real_getaddrinfo(host, service, &numeric, end) == 0);
}

static int fake_many(const char *service, const struct addrinfo *hints, struct addrinfo **result) {
    char host[32];
    for (int i = 1; i <= 20; i++) {
        snprintf(host, sizeof host, "127.0.1.%d", i);
        fake_add(result, host, service, hints);
    }
    return 0;
}

static int fake_several(const char *service, const struct addrinfo *hints,
                        struct addrinfo **result) {
    for (int i = 0; fake.hosts[i] != NULL; i++)
        fake_add(result, fake.hosts[i], service, hints);
    return 0;
}

static int fake_slow(const char *service, const struct addrinfo *hints, struct addrinfo **result) {
    (void)mtask_word_add(&fake.inside, 1);
    (void)mtask_event_wait(&fake.gate, MTASK_FOREVER);
    fake_add(result, "127.0.0.9", service, hints);
    (void)mtask_word_add(&fake.left, 1);
    return 0;
}

static const struct {
    const char *name;
    int result;
    int error;
} fake_errors[] = {{"none.test", EAI_NONAME, 0},
                   {"again.test", EAI_AGAIN, 0},
                   {"memory.test", EAI_MEMORY, 0},
                   {"fail.test", EAI_FAIL, 0},
                   {"system.test", EAI_SYSTEM, EMFILE}};

int __wrap_getaddrinfo(const char *node, const char *service, const struct addrinfo *hints,
                       struct addrinfo **result) {
    struct addrinfo all = {.ai_socktype = SOCK_STREAM};
    const struct addrinfo *kind = hints != NULL ? hints : &all;
    (void)mtask_word_add(&fake.calls, 1);
    *result = NULL;
    for (long i = 0; node != NULL && i < COUNT_OF(fake_errors); i++)
        if (strcmp(node, fake_errors[i].name) == 0) {
            errno = fake_errors[i].error;
            return fake_errors[i].result;
        }
    if (node != NULL && strcmp(node, "many.test") == 0)
        return fake_many(service, kind, result);
    if (node != NULL && strcmp(node, "several.test") == 0)
        return fake_several(service, kind, result);
    if (node != NULL && strcmp(node, "slow.test") == 0)
        return fake_slow(service, kind, result);
    return __real_getaddrinfo(node, service, hints, result);
}

/* Says which hosts several.test has. */
static void fake_hosts(const char *first, const char *second, const char *third) {
    fake.hosts[0] = first;
    fake.hosts[1] = second;
    fake.hosts[2] = third;
}

static void await_inside(mtask_word count) {
    await_value(&fake.inside, count);
}

/* Lets the look-ups of slow.test end, and waits until they have, and their answers, too. */
static void end_slow(void) {
    mtask_event_set(&fake.gate);
    await_value(&fake.left, mtask_word_load(&fake.inside));
    (void)mtask_sleep(MTASK_MS(5));
}

/* ---- helpers ---- */

/* Whether this machine has IPv6; without it the tests of it pass. */
static bool have_ip6(void) {
    struct sockaddr_in6 here;
    int fd = socket(AF_INET6, SOCK_STREAM, 0);
    bool found;
    memset(&here, 0, sizeof here);
    here.sin6_family = AF_INET6;
    here.sin6_addr = in6addr_loopback;
    found = fd >= 0 && bind(fd, (struct sockaddr *)&here, sizeof here) == 0;
    if (fd >= 0)
        close(fd);
    return found;
}

/* The address of a Unix socket in a folder of the test's own. */
static void unix_at(char text[MTASK_ADDRESS_TEXT], const char *name) {
    snprintf(text, MTASK_ADDRESS_TEXT, "unix:%s/%s", folder, name);
}

static mtask_address parsed(const char *text) {
    mtask_address address;
    memset(&address, 0xA5, sizeof address);
    ck_assert_status(mtask_address_parse(&address, text), MTASK_OK);
    return address;
}

static unsigned port_of(int fd) {
    mtask_address address;
    ck_assert_status(mtask_io_local(fd, &address), MTASK_OK);
    return mtask_address_port(&address);
}

/* Writes the address of a socket. */
static void text_of(int fd, char text[MTASK_ADDRESS_TEXT]) {
    mtask_address address;
    ck_assert_status(mtask_io_local(fd, &address), MTASK_OK);
    (void)mtask_address_text(&address, text, MTASK_ADDRESS_TEXT);
}

static void with_port(char text[MTASK_ADDRESS_TEXT], const char *host, unsigned port) {
    snprintf(text, MTASK_ADDRESS_TEXT, "%s:%u", host, port);
}

/* Listens, and writes where. */
static int listen_on(const char *address, char text[MTASK_ADDRESS_TEXT]) {
    int fd = -2;
    ck_assert_status(mtask_tcp_listen(&fd, address, NULL), MTASK_OK);
    testing_check(fd >= 0);
    text_of(fd, text);
    return fd;
}

static int connect_to(const char *address) {
    int fd = -2;
    ck_assert_status(mtask_tcp_connect(&fd, address, LONG), MTASK_OK);
    testing_check(fd >= 0);
    return fd;
}

static int accept_from(int listener) {
    int fd = -2;
    ck_assert_status(mtask_tcp_accept(listener, &fd, NULL, LONG), MTASK_OK);
    testing_check(fd >= 0);
    return fd;
}

/* Connects in vain; errno then. */
static int fail_to_connect(const char *address) {
    int fd = -2;
    errno = 0;
    ck_assert_status(mtask_tcp_connect(&fd, address, LONG), MTASK_SYSTEM);
    ck_assert_int_eq(fd, -1);
    return errno;
}

/* Listens in vain; errno then. */
static int fail_to_listen(const char *address, const mtask_listen_desc *desc) {
    int fd = -2;
    errno = 0;
    ck_assert_status(mtask_tcp_listen(&fd, address, desc), MTASK_SYSTEM);
    ck_assert_int_eq(fd, -1);
    return errno;
}

/* Fails the test unless the two are connected to each other. */
static void check_connected(int one, int other) {
    char byte = 'a';
    size_t count = 0;
    ck_assert_status(mtask_io_write(one, &byte, 1, NULL, LONG), MTASK_OK);
    byte = '\0';
    ck_assert_status(mtask_io_read(other, &byte, 1, &count, LONG), MTASK_OK);
    testing_check(byte == 'a' && count == 1);
    ck_assert_status(mtask_io_write(other, "b", 1, NULL, LONG), MTASK_OK);
    ck_assert_status(mtask_io_read(one, &byte, 1, &count, LONG), MTASK_OK);
    testing_check(byte == 'b' && count == 1);
}

/* Fails the test unless the descriptor is as mtask makes them. */
static void check_made(int fd) {
    mtask_address address;
    int value = 0;
    socklen_t size = sizeof value;
    testing_check(!is_blocking(fd));
    testing_check((fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
    ck_assert_status(mtask_io_local(fd, &address), MTASK_OK);
    if (address.as.any.sa_family == AF_UNIX)
        return;
    testing_check(getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &value, &size) == 0);
    testing_check(value != 0);
}

/* A port at which nobody listens, and that nobody else gets while the descriptor is open. */
static int hold_port(const char *host, char text[MTASK_ADDRESS_TEXT]) {
    char any[MTASK_ADDRESS_TEXT];
    mtask_address address;
    int fd;
    with_port(any, host, 0);
    address = parsed(any);
    fd = socket(address.as.any.sa_family, SOCK_STREAM, 0);
    testing_check(fd >= 0 && bind(fd, &address.as.any, address.size) == 0);
    text_of(fd, text);
    return fd;
}

/* ---- addresses as text ---- */

static bool same_address(const mtask_address *a, const mtask_address *b) {
    if (a->as.any.sa_family != b->as.any.sa_family || a->size != b->size)
        return false;
    if (a->as.any.sa_family == AF_INET)
        return a->as.ip4.sin_port == b->as.ip4.sin_port &&
               a->as.ip4.sin_addr.s_addr == b->as.ip4.sin_addr.s_addr;
    if (a->as.any.sa_family == AF_INET6)
        return a->as.ip6.sin6_port == b->as.ip6.sin6_port &&
               a->as.ip6.sin6_scope_id == b->as.ip6.sin6_scope_id &&
               memcmp(&a->as.ip6.sin6_addr, &b->as.ip6.sin6_addr, 16) == 0;
    return memcmp(&a->as.path, &b->as.path, a->size) == 0;
}

/* Fails the test unless the text of an address is read as that address. */
static void check_round_trip(const mtask_address *address) {
    char text[MTASK_ADDRESS_TEXT];
    mtask_address again;
    ck_assert_ptr_eq(mtask_address_text(address, text, sizeof text), text);
    again = parsed(text);
    if (!same_address(address, &again))
        ck_abort_msg("%s is read as another address", text);
}

START_TEST(an_address_is_read_from_its_text_and_written_as_it) {
    static const struct {
        const char *text;
        int family;
        unsigned port;
    } all[] = {{"127.0.0.1:80", AF_INET, 80},
               {"0.0.0.0:0", AF_INET, 0},
               {"255.255.255.255:65535", AF_INET, 65535},
               {"1.20.3.40:1", AF_INET, 1},
               {"[::1]:80", AF_INET6, 80},
               {"[2001:db8::1]:443", AF_INET6, 443},
               {"[fe80::1:2:3]:65535", AF_INET6, 65535},
               {"unix:/tmp/a", AF_UNIX, 0},
               {"unix:/tmp/a b:80", AF_UNIX, 0},
               {"unix:/", AF_UNIX, 0}};
    for (long i = 0; i < COUNT_OF(all); i++) {
        mtask_address address = parsed(all[i].text);
        char text[MTASK_ADDRESS_TEXT];
        ck_assert_int_eq(address.as.any.sa_family, all[i].family);
        ck_assert_uint_eq(mtask_address_port(&address), all[i].port);
        ck_assert_str_eq(mtask_address_text(&address, text, sizeof text), all[i].text);
        check_round_trip(&address);
    }
}
END_TEST

START_TEST(all_addresses_of_a_machine_have_short_names) {
    static const char *const all[] = {"*:80", ":80", "[::]:80", "*:0", ":65535"};
    for (long i = 0; i < COUNT_OF(all); i++) {
        mtask_address address = parsed(all[i]);
        const char *colon = strrchr(all[i], ':');
        testing_check(colon != NULL);
        ck_assert_uint_eq(mtask_address_port(&address), strtoul(colon + 1, NULL, 10));
        if (address.as.any.sa_family == AF_INET)
            ck_assert_uint_eq(address.as.ip4.sin_addr.s_addr, INADDR_ANY);
        else
            testing_check(IN6_IS_ADDR_UNSPECIFIED(&address.as.ip6.sin6_addr));
        check_round_trip(&address);
    }
}
END_TEST

static mtask_address random_ip4(testing_random *random) {
    mtask_address address;
    memset(&address, 0, sizeof address);
    address.size = sizeof address.as.ip4;
    address.as.ip4.sin_family = AF_INET;
    address.as.ip4.sin_port = (in_port_t)testing_next(random);
    address.as.ip4.sin_addr.s_addr = (in_addr_t)(testing_next(random) >> 32);
    return address;
}

/* With runs of zeroes, which are written as "::". */
static mtask_address random_ip6(testing_random *random) {
    mtask_address address;
    memset(&address, 0, sizeof address);
    address.size = sizeof address.as.ip6;
    address.as.ip6.sin6_family = AF_INET6;
    address.as.ip6.sin6_port = (in_port_t)testing_next(random);
    for (int i = 0; i < 16; i += 2)
        if (testing_below(random, 3) != 0) {
            address.as.ip6.sin6_addr.s6_addr[i] = (unsigned char)testing_below(random, 256);
            address.as.ip6.sin6_addr.s6_addr[i + 1] = (unsigned char)testing_below(random, 3);
        }
    return address;
}

START_TEST(every_ip_address_survives_being_written_and_read) {
    testing_random random = testing_random_make(testing_seed(), 0);
    for (long i = testing_scale(20000); i > 0; i--) {
        mtask_address ip4 = random_ip4(&random), ip6 = random_ip6(&random);
        check_round_trip(&ip4);
        check_round_trip(&ip6);
    }
}
END_TEST

/* The text "unix:" and `length` bytes that begin with `first`. */
static void unix_of(char *text, char first, size_t length) {
    memcpy(text, "unix:", 5);
    memset(text + 5, 'x', length);
    text[5] = first;
    text[5 + length] = '\0';
}

START_TEST(the_path_of_a_unix_socket_may_be_as_long_as_the_system_lets_it) {
    const size_t room = sizeof(struct sockaddr_un) - offsetof(struct sockaddr_un, sun_path);
    char text[1024], written[MTASK_ADDRESS_TEXT];
    mtask_address address;
    for (size_t length = 1; length < room; length++) {
        unix_of(text, '/', length);
        address = parsed(text);
        ck_assert_str_eq(mtask_address_text(&address, written, sizeof written), text);
        check_round_trip(&address);
    }
    unix_of(text, '/', room);
    if (mtask_address_parse(&address, text) == MTASK_OK) /* some systems need no zero at the end */
        check_round_trip(&address);
    for (size_t length = room + 1; length < 1000; length += 97) {
        unix_of(text, '/', length);
        ck_assert_status(mtask_address_parse(&address, text), MTASK_INVALID);
    }
}
END_TEST

START_TEST(the_name_of_an_abstract_socket_begins_with_a_zero) {
    const size_t room = sizeof(struct sockaddr_un) - offsetof(struct sockaddr_un, sun_path);
    char text[1024], written[MTASK_ADDRESS_TEXT];
    mtask_address address;
    for (size_t length = 2; length < room; length++) { /* "@" stands for the zero */
        unix_of(text, '@', length);
        address = parsed(text);
        ck_assert_uint_eq(address.size, offsetof(struct sockaddr_un, sun_path) + length);
        ck_assert_int_eq(address.as.path.sun_path[0], '\0');
        ck_assert_str_eq(mtask_address_text(&address, written, sizeof written), text);
        check_round_trip(&address);
    }
    unix_of(text, '@', room);
    if (mtask_address_parse(&address, text) == MTASK_OK)
        check_round_trip(&address);
    unix_of(text, '@', room + 1);
    ck_assert_status(mtask_address_parse(&address, text), MTASK_INVALID);
    if (mtask_address_parse(&address, "unix:@") == MTASK_OK)
        check_round_trip(&address);
}
END_TEST

START_TEST(what_is_no_address_is_refused) {
    static const char *const all[] = {"",
                                      ":",
                                      "127.0.0.1",
                                      "localhost",
                                      "127.0.0.1:65536",
                                      "localhost:65536",
                                      "*:65536",
                                      "[::1]",
                                      "[::1",
                                      "[::1]80",
                                      "[::1]:65536",
                                      "[",
                                      "]",
                                      "[]",
                                      "[]:80",
                                      "unix:",
                                      "*",
                                      "127.0.0.1:99999999999999999999",
                                      "[::1]:",
                                      "127.0.0.1:",
                                      "localhost:",
                                      "*:"};
    for (long i = 0; i < COUNT_OF(all); i++) {
        mtask_address address;
        size_t count;
        mtask_status status = mtask_address_parse(&address, all[i]);
        if (status != MTASK_INVALID)
            ck_abort_msg("\"%s\": %s", all[i], mtask_status_name(status));
        status = mtask_resolve(all[i], &address, 1, &count, LONG);
        if (status != MTASK_INVALID)
            ck_abort_msg("\"%s\": %s, resolved", all[i], mtask_status_name(status));
    }
}
END_TEST

START_TEST(what_is_hardly_an_address_is_not_taken_for_one) {
    static const char *const all[] = {
        "127.0.0.1:-1", "127.0.0.1:+80",  "127.0.0.1: 80",     "127.0.0.1:80 ",  "127.0.0.1:0x50",
        "127.0.0.1:8O", "127.0.0.1:80\n", " 127.0.0.1:80",     "[127.0.0.1]:80", "[:::1]:80",
        "[::1 ]:80",    "[::1%]:80",      "[::1%nosuchif]:80", "[zzz]:80",       "[::1]:x",
        "999.1.1.1:80", "[1.2.3.4:80",    "[::1]]:80",         "127.0.0.1:http", "::1:80",
        "*:http"};
    for (long i = 0; i < COUNT_OF(all); i++) {
        mtask_address address;
        mtask_status status = mtask_address_parse(&address, all[i]);
        if (status != MTASK_INVALID && status != MTASK_NOT_FOUND)
            ck_abort_msg("\"%s\": %s", all[i], mtask_status_name(status));
    }
}
END_TEST

START_TEST(a_name_has_to_be_looked_up) {
    static const char *const all[] = {"localhost:80", "a:80", "example.com:http", "x-1.y:65535"};
    for (long i = 0; i < COUNT_OF(all); i++) {
        mtask_address address;
        ck_assert_status(mtask_address_parse(&address, all[i]), MTASK_NOT_FOUND);
    }
    ck_assert_uint_eq(mtask_word_load(&fake.calls), 0);
}
END_TEST

START_TEST(random_text_is_an_address_or_not) {
    static const char bytes[] = "0123456789abcdef::::....[]%*@/unix \xff";
    testing_random random = testing_random_make(testing_seed(), 0);
    for (long i = testing_scale(50000); i > 0; i--) {
        char text[48];
        size_t length = testing_below(&random, sizeof text);
        mtask_address address;
        mtask_status status;
        for (size_t k = 0; k < length; k++)
            text[k] = bytes[testing_below(&random, sizeof bytes - 1)];
        text[length] = '\0';
        status = mtask_address_parse(&address, text);
        if (status == MTASK_OK)
            check_round_trip(&address);
        else
            testing_check(status == MTASK_INVALID || status == MTASK_NOT_FOUND);
    }
}
END_TEST

START_TEST(the_text_of_an_address_fits_in_any_room) {
    static const char *const all[] = {"127.0.0.1:80", "[2001:db8::1]:443", "unix:/tmp/socket"};
    char room[MTASK_ADDRESS_TEXT + 1];
    for (long i = 0; i < COUNT_OF(all); i++) {
        mtask_address address = parsed(all[i]);
        for (size_t size = 0; size <= strlen(all[i]) + 2; size++) {
            memset(room, '#', sizeof room);
            ck_assert_ptr_eq(mtask_address_text(&address, room, size), room);
            ck_assert_int_eq(room[size], '#');
            if (size == 0)
                continue;
            testing_check(memchr(room, '\0', size) != NULL);
            ck_assert_int_eq(strncmp(room, all[i], strlen(room)), 0);
        }
    }
}
END_TEST

START_TEST(an_address_that_is_none_has_a_text_and_no_port) {
    mtask_address address;
    char text[MTASK_ADDRESS_TEXT];
    int ends[2];
    memset(&address, 0, sizeof address);
    memset(text, '#', sizeof text);
    ck_assert_ptr_eq(mtask_address_text(&address, text, sizeof text), text);
    testing_check(memchr(text, '\0', sizeof text) != NULL);
    ck_assert_uint_eq(mtask_address_port(&address), 0);
    open_pair(ends); /* sockets without a name */
    ck_assert_status(mtask_io_local(ends[0], &address), MTASK_OK);
    (void)mtask_address_text(&address, text, sizeof text);
    ck_assert_uint_eq(mtask_address_port(&address), 0);
    end_fds(ends);
}
END_TEST

START_TEST(an_address_may_name_its_network_interface) {
    mtask_address address;
    size_t count = 0;
    if (!have_ip6() || if_nametoindex("lo") == 0)
        return;
    ck_assert_status(mtask_resolve("[fe80::1%lo]:80", &address, 1, &count, LONG), MTASK_OK);
    ck_assert_uint_eq(count, 1);
    ck_assert_int_eq(address.as.any.sa_family, AF_INET6);
    ck_assert_uint_eq(address.as.ip6.sin6_scope_id, if_nametoindex("lo"));
    ck_assert_uint_eq(mtask_address_port(&address), 80);
    check_round_trip(&address);
}
END_TEST

START_TEST(the_addresses_of_a_socket_can_be_asked_for) {
    mtask_address address;
    int ends[2];
    memset(&address, 0xA5, sizeof address);
    errno = 0;
    ck_assert_status(mtask_io_local(-1, &address), MTASK_SYSTEM);
    ck_assert_int_eq(errno, EBADF);
    ck_assert_status(mtask_io_peer(-1, &address), MTASK_SYSTEM);
    open_pipe(ends);
    ck_assert_status(mtask_io_local(ends[0], &address), MTASK_SYSTEM);
    ck_assert_int_eq(errno, ENOTSOCK);
    end_fds(ends);
    ends[0] = hold_port("127.0.0.1", (char[MTASK_ADDRESS_TEXT]){0});
    ck_assert_status(mtask_io_peer(ends[0], &address), MTASK_SYSTEM);
    ck_assert_int_eq(errno, ENOTCONN);
    close(ends[0]);
}
END_TEST

/* ---- look-up ---- */

typedef struct lookup {
    const char *text;
    size_t capacity;
    int64_t timeout;
    mtask_status status;
    int error;
    size_t count;
    mtask_address found[24];
} lookup;

static void *look_up(void *arg) {
    lookup *self = (lookup *)arg;
    memset(self->found, 0xA5, sizeof self->found);
    self->count = 0;
    errno = 0;
    self->status =
        mtask_resolve(self->text, self->found, self->capacity, &self->count, self->timeout);
    self->error = errno;
    return arg;
}

/* Looks it up as a test expects. */
static lookup looked_up(const char *text, size_t capacity, mtask_status expected) {
    lookup self = {.text = text, .capacity = capacity, .timeout = LONG};
    (void)look_up(&self);
    ck_assert_status(self.status, expected);
    return self;
}

static void check_found(const lookup *self, size_t index, const char *expected) {
    char text[MTASK_ADDRESS_TEXT];
    ck_assert_uint_lt(index, self->count);
    ck_assert_str_eq(mtask_address_text(&self->found[index], text, sizeof text), expected);
}

static void *look_up_numbers(void *arg) {
    static const char *const all[] = {"127.0.0.1:80", "[::1]:80", "unix:/tmp/a", "10.0.0.1:0"};
    for (long i = 0; i < COUNT_OF(all); i++) {
        lookup self = {.text = all[i], .capacity = 4, .timeout = MTASK_NOWAIT};
        (void)look_up(&self);
        ck_assert_status(self.status, MTASK_OK);
        ck_assert_uint_eq(self.count, 1);
        check_found(&self, 0, all[i]);
    }
    return arg;
}

START_TEST(what_is_no_name_is_answered_at_once) {
    everywhere(look_up_numbers, NULL);
    ck_assert_uint_eq(mtask_word_load(&fake.calls), 0);
}
END_TEST

static void *look_up_localhost(void *arg) {
    lookup self = looked_up("localhost:7", 16, MTASK_OK);
    ck_assert_uint_ge(self.count, 1);
    for (size_t i = 0; i < self.count; i++) {
        ck_assert_uint_eq(mtask_address_port(&self.found[i]), 7);
        if (self.found[i].as.any.sa_family == AF_INET)
            ck_assert_uint_eq(ntohl(self.found[i].as.ip4.sin_addr.s_addr) >> 24, 127);
        else
            testing_check(IN6_IS_ADDR_LOOPBACK(&self.found[i].as.ip6.sin6_addr));
        for (size_t k = 0; k < i; k++)
            testing_check(!same_address(&self.found[i], &self.found[k]));
    }
    ck_assert_status(mtask_resolve("localhost:7", self.found, 16, NULL, LONG), MTASK_OK);
    return arg;
}

START_TEST(localhost_is_found) {
    everywhere(look_up_localhost, NULL);
}
END_TEST

static void *look_up_services(void *arg) {
    lookup self;
    if (getservbyname("http", "tcp") != NULL) {
        self = looked_up("127.0.0.1:http", 4, MTASK_OK);
        check_found(&self, 0, "127.0.0.1:80");
        self = looked_up("localhost:http", 4, MTASK_OK);
        ck_assert_uint_eq(mtask_address_port(&self.found[0]), 80);
    }
    (void)looked_up("127.0.0.1:nosuchservice", 4, MTASK_NOT_FOUND);
    (void)looked_up("localhost:nosuchservice", 4, MTASK_NOT_FOUND);
    return arg;
}

START_TEST(a_service_is_found_or_not) {
    everywhere(look_up_services, NULL);
}
END_TEST

static void *look_up_in_vain(void *arg) {
    lookup self;
    (void)looked_up("none.test:80", 4, MTASK_NOT_FOUND);
    self = looked_up("again.test:80", 4, MTASK_SYSTEM);
    ck_assert_int_eq(self.error, EAGAIN);
    (void)looked_up("memory.test:80", 4, MTASK_NOMEM);
    self = looked_up("system.test:80", 4, MTASK_SYSTEM);
    ck_assert_int_eq(self.error, EMFILE);
    (void)look_up(&(lookup){.text = "fail.test:80", .capacity = 4, .timeout = LONG});
    return arg;
}

START_TEST(a_look_up_tells_why_it_failed) {
    everywhere(look_up_in_vain, NULL);
}
END_TEST

/* The system's own look-up of a name that does not exist, with or without a name server. */
static void *look_up_unknown(void *arg) {
    lookup self = {.text = "no-such-name.invalid:80", .capacity = 1, .timeout = MTASK_MS(200)};
    (void)look_up(&self);
    testing_check(self.status == MTASK_NOT_FOUND || self.status == MTASK_TIMEOUT ||
                  (self.status == MTASK_SYSTEM && self.error == EAGAIN));
    return arg;
}

START_TEST(a_name_that_nobody_has_is_not_found) {
    everywhere(look_up_unknown, NULL);
}
END_TEST

static void *look_up_many(void *arg) {
    for (size_t capacity = 1; capacity <= 24; capacity++) {
        lookup self = looked_up("many.test:80", capacity, MTASK_OK);
        mtask_address untouched;
        char expected[32];
        memset(&untouched, 0xA5, sizeof untouched);
        ck_assert_uint_eq(self.count, capacity < 16 ? capacity : 16);
        for (size_t i = 0; i < self.count; i++) {
            snprintf(expected, sizeof expected, "127.0.1.%u:80", (unsigned)i + 1);
            check_found(&self, i, expected);
        }
        for (size_t i = self.count; i < 24; i++)
            testing_check(memcmp(&self.found[i], &untouched, sizeof untouched) == 0);
    }
    return arg;
}

START_TEST(as_many_addresses_are_written_as_there_is_room_for) {
    everywhere(look_up_many, NULL);
}
END_TEST

static void *look_up_long_names(void *arg) {
    mtask_address address;
    size_t size = 100000, count;
    char *text = malloc(size + 4);
    testing_check(text != NULL);
    memset(text, 'a', size);
    memcpy(text + size, ":80", 4);
    testing_check(mtask_resolve(text, &address, 1, &count, LONG) != MTASK_OK);
    testing_check(mtask_resolve(text + size - 300, &address, 1, &count, LONG) != MTASK_OK);
    text[size - 300] = '[';
    testing_check(mtask_resolve(text + size - 300, &address, 1, &count, LONG) == MTASK_INVALID);
    free(text);
    return arg;
}

START_TEST(a_name_longer_than_any_is_not_found) {
    everywhere(look_up_long_names, NULL);
}
END_TEST

/* Whether nothing was written where the answer belongs. */
static bool is_untouched(const lookup *self) {
    const unsigned char *bytes = (const unsigned char *)self->found;
    for (size_t i = 0; i < sizeof self->found; i++)
        if (bytes[i] != 0xA5)
            return false;
    return true;
}

static void *give_up_look_up(void *arg) {
    static const int64_t timeouts[] = {MTASK_NOWAIT, 1, MTASK_MS(2)};
    for (long i = 0; i < COUNT_OF(timeouts); i++) {
        lookup self = {.text = "slow.test:80", .capacity = 24, .timeout = timeouts[i]};
        (void)look_up(&self);
        ck_assert_status(self.status, MTASK_TIMEOUT);
        testing_check(is_untouched(&self));
        end_slow();
        testing_check(is_untouched(&self));
        mtask_event_clear(&fake.gate);
    }
    return arg;
}

START_TEST(nobody_hears_of_an_answer_that_comes_too_late) {
    everywhere(give_up_look_up, NULL);
}
END_TEST

static void *look_up_and_leave(void *arg) {
    lookup self = {.text = "slow.test:80", .capacity = 24, .timeout = LONG};
    (void)look_up(&self);
    ck_assert_status(self.status, *(mtask_status *)arg);
    testing_check(self.status == MTASK_OK || is_untouched(&self));
    return arg; /* and now its stack is somebody else's */
}

static void *cancel_look_ups(void *arg) {
    mtask_status expected = MTASK_CANCELED;
    mtask_future *futures[3];
    for (int i = 0; i < 3; i++)
        futures[i] = go(look_up_and_leave, &expected);
    await_inside(mtask_word_load(&fake.left) + 3);
    for (int i = 0; i < 3; i++) {
        ck_assert_status(mtask_future_cancel(futures[i]), MTASK_OK);
        (void)take(futures[i]);
    }
    ck_assert_status(mtask_with_timeout(MTASK_MS(1), look_up_and_leave, &expected, NULL),
                     MTASK_TIMEOUT);
    if (arg != NULL)
        end_slow();
    return arg;
}

START_TEST(a_look_up_can_be_cancelled) {
    char within_the_loop;
    (void)in_loop(cancel_look_ups, &within_the_loop);
    mtask_event_clear(&fake.gate);
    (void)in_loop(cancel_look_ups, NULL); /* the answers come when the loop is gone */
    end_slow();
}
END_TEST

static void *look_up_together(void *arg) {
    mtask_status expected = MTASK_OK;
    mtask_future *futures[3 * MTASK_OFFLOAD_THREADS];
    for (long i = 0; i < COUNT_OF(futures); i++)
        futures[i] = go(look_up_and_leave, &expected);
    await_inside(2); /* this task goes on meanwhile */
    mtask_event_set(&fake.gate);
    for (long i = 0; i < COUNT_OF(futures); i++)
        (void)take(futures[i]);
    return arg;
}

START_TEST(more_look_ups_than_threads_end_all) {
    (void)in_loop(look_up_together, NULL);
    ck_assert_uint_eq(mtask_word_load(&fake.left), 3 * MTASK_OFFLOAD_THREADS);
}
END_TEST

/* ---- connections ---- */

#define ECHO_SIZE 16384

/* One who listens, and one who connects. */
typedef struct meeting {
    int listener;
    char at[MTASK_ADDRESS_TEXT];
} meeting;

/* Accepts one connection and answers with what comes until it ends. */
static void *serve_echo(void *arg) {
    meeting *self = (meeting *)arg;
    mtask_address peer, other;
    char bytes[1024];
    size_t count;
    mtask_status status;
    int fd = -2;
    memset(&peer, 0, sizeof peer);
    ck_assert_status(mtask_tcp_accept(self->listener, &fd, &peer, LONG), MTASK_OK);
    check_made(fd);
    ck_assert_status(mtask_io_peer(fd, &other), MTASK_OK);
    if (peer.as.any.sa_family != AF_UNIX)
        testing_check(same_address(&peer, &other));
    while ((status = mtask_io_read(fd, bytes, sizeof bytes, &count, LONG)) == MTASK_OK)
        ck_assert_status(mtask_io_write(fd, bytes, count, NULL, LONG), MTASK_OK);
    ck_assert_status(status, MTASK_CLOSED);
    end_fd(fd);
    return arg;
}

static void *ask_echo(void *arg) {
    meeting *self = (meeting *)arg;
    char bytes[ECHO_SIZE], peer[MTASK_ADDRESS_TEXT];
    mtask_address address;
    int fd = connect_to(self->at);
    check_made(fd);
    ck_assert_status(mtask_io_peer(fd, &address), MTASK_OK);
    ck_assert_str_eq(mtask_address_text(&address, peer, sizeof peer), self->at);
    make_pattern(bytes, 0, sizeof bytes);
    ck_assert_status(mtask_io_write(fd, bytes, sizeof bytes, NULL, LONG), MTASK_OK);
    testing_check(shutdown(fd, SHUT_WR) == 0);
    memset(bytes, 0, sizeof bytes);
    for (size_t got = 0, count; got < sizeof bytes; got += count)
        ck_assert_status(mtask_io_read(fd, bytes + got, sizeof bytes - got, &count, LONG),
                         MTASK_OK);
    check_pattern(bytes, 0, sizeof bytes);
    ck_assert_status(mtask_io_read(fd, bytes, 1, NULL, LONG), MTASK_CLOSED);
    end_fd(fd);
    return arg;
}

/* Has the two meet at the address, wherever they run. */
static void meet_at(const char *address) {
    meeting self;
    self.listener = listen_on(address, self.at);
    testing_check(!is_blocking(self.listener));
    testing_check((fcntl(self.listener, F_GETFD) & FD_CLOEXEC) != 0);
    for (int where = 0; where < PLACES; where++)
        run_both(serve_echo, &self, ask_echo, &self, (place)where);
    end_fd(self.listener);
}

START_TEST(two_meet_by_ipv4) {
    meet_at("127.0.0.1:0");
}
END_TEST

START_TEST(two_meet_by_ipv6) {
    if (have_ip6())
        meet_at("[::1]:0");
}
END_TEST

START_TEST(two_meet_at_a_unix_socket) {
    char at[MTASK_ADDRESS_TEXT];
    open_folder();
    unix_at(at, "s");
    meet_at(at);
    snprintf(at, sizeof at, "unix:@%s", folder);
    meet_at(at);
    end_folder();
}
END_TEST

static void *meet_by_name(void *arg) {
    meeting self;
    int client, served;
    self.listener = listen_on("localhost:0", self.at);
    with_port(self.at, "localhost", port_of(self.listener));
    client = connect_to(self.at);
    served = accept_from(self.listener);
    check_connected(client, served);
    end_fd(client);
    end_fd(served);
    end_fd(self.listener);
    return arg;
}

START_TEST(two_meet_by_name) {
    everywhere(meet_by_name, NULL);
}
END_TEST

START_TEST(a_free_port_is_another_one_each_time) {
    char first[MTASK_ADDRESS_TEXT], second[MTASK_ADDRESS_TEXT];
    int one = listen_on("127.0.0.1:0", first), other = listen_on("127.0.0.1:0", second);
    ck_assert_uint_ne(port_of(one), 0);
    ck_assert_uint_ne(port_of(one), port_of(other));
    end_fd(one);
    end_fd(other);
}
END_TEST

/* Connects to the listener through that host, if the machine has it. */
static void reach(int listener, const char *host) {
    char at[MTASK_ADDRESS_TEXT];
    int client, served;
    with_port(at, host, port_of(listener));
    client = connect_to(at);
    served = accept_from(listener);
    check_connected(client, served);
    end_fd(client);
    end_fd(served);
}

START_TEST(who_listens_on_all_addresses_is_reached_by_both_versions) {
    static const char *const all[] = {"*:0", ":0", "[::]:0"};
    char at[MTASK_ADDRESS_TEXT];
    for (long i = have_ip6() ? 0 : 2; i < COUNT_OF(all); i++) {
        int listener;
        if (i == 2 && !have_ip6())
            break;
        listener = listen_on(all[i], at);
        reach(listener, "127.0.0.1");
        reach(listener, "[::1]");
        end_fd(listener);
    }
    if (!have_ip6()) {
        int listener = listen_on("*:0", at);
        reach(listener, "127.0.0.1");
        end_fd(listener);
    }
}
END_TEST

START_TEST(who_listens_on_ipv6_alone_is_not_reached_by_ipv4) {
    static const char *const all[] = {"*:0", "[::]:0"};
    mtask_listen_desc desc = {.ip6_only = true};
    char at[MTASK_ADDRESS_TEXT];
    for (long i = 0; have_ip6() && i < COUNT_OF(all); i++) {
        int listener = -2;
        ck_assert_status(mtask_tcp_listen(&listener, all[i], &desc), MTASK_OK);
        reach(listener, "[::1]");
        with_port(at, "127.0.0.1", port_of(listener));
        ck_assert_int_eq(fail_to_connect(at), ECONNREFUSED);
        end_fd(listener);
    }
}
END_TEST

static void *be_refused(void *arg) {
    char at[MTASK_ADDRESS_TEXT];
    int held = hold_port("127.0.0.1", at), before = count_fds();
    ck_assert_int_eq(fail_to_connect(at), ECONNREFUSED);
    with_port(at, "localhost", port_of(held));
    ck_assert_int_eq(fail_to_connect(at), ECONNREFUSED);
    ck_assert_int_eq(count_fds(), before);
    close(held);
    unix_at(at, "nobody");
    ck_assert_int_eq(fail_to_connect(at), ENOENT);
    return arg;
}

START_TEST(where_nobody_listens_a_connection_is_refused) {
    open_folder();
    (void)look_up_localhost(NULL); /* what a first look-up opens is open before we count */
    wait_once();
    everywhere(be_refused, NULL);
    end_folder();
}
END_TEST

static void *misuse(void *arg) {
    char at[MTASK_ADDRESS_TEXT];
    int listener = listen_on("127.0.0.1:0", at), fd = -2;
    ck_assert_status(mtask_tcp_connect(&fd, "nonsense", LONG), MTASK_INVALID);
    ck_assert_int_eq(fd, -1);
    fd = -2;
    ck_assert_status(mtask_tcp_connect(&fd, at, -1), MTASK_INVALID);
    ck_assert_int_eq(fd, -1);
    fd = -2;
    ck_assert_status(mtask_tcp_connect(&fd, "none.test:80", LONG), MTASK_NOT_FOUND);
    ck_assert_int_eq(fd, -1);
    fd = -2;
    ck_assert_status(mtask_tcp_listen(&fd, "nonsense", NULL), MTASK_INVALID);
    ck_assert_int_eq(fd, -1);
    fd = -2;
    ck_assert_status(mtask_tcp_listen(&fd, "none.test:0", NULL), MTASK_NOT_FOUND);
    ck_assert_int_eq(fd, -1);
    fd = -2;
    ck_assert_status(mtask_tcp_accept(listener, &fd, NULL, -1), MTASK_INVALID);
    ck_assert_int_eq(fd, -1);
    fd = -2;
    testing_check(mtask_tcp_accept(-1, &fd, NULL, LONG) != MTASK_OK);
    ck_assert_int_eq(fd, -1);
    end_fd(listener);
    return arg;
}

START_TEST(what_cannot_be_is_refused) {
    everywhere(misuse, NULL);
}
END_TEST

static void *accept_from_others(void *arg) {
    int ends[2], fd = -2;
    open_pair(ends);
    errno = 0;
    ck_assert_status(mtask_tcp_accept(ends[0], &fd, NULL, LONG), MTASK_SYSTEM);
    ck_assert_int_eq(errno, EINVAL);
    ck_assert_int_eq(fd, -1);
    end_fds(ends);
    errno = 0;
    ck_assert_status(mtask_tcp_accept(ends[0], &fd, NULL, LONG), MTASK_SYSTEM);
    ck_assert_int_eq(errno, EBADF);
    return arg;
}

START_TEST(only_who_listens_accepts) {
    everywhere(accept_from_others, NULL);
}
END_TEST

/* ---- hosts of several addresses ---- */

static int listen_at(const char *host, unsigned port) {
    char at[MTASK_ADDRESS_TEXT], real[MTASK_ADDRESS_TEXT];
    with_port(at, host, port);
    return listen_on(at, real);
}

/* Connects to several.test; the host at which it arrived. */
static void arrive(unsigned port, const char *expected) {
    char at[MTASK_ADDRESS_TEXT], arrived[MTASK_ADDRESS_TEXT];
    mtask_address peer;
    int fd;
    with_port(at, "several.test", port);
    fd = connect_to(at);
    check_made(fd);
    ck_assert_status(mtask_io_peer(fd, &peer), MTASK_OK);
    with_port(at, expected, port);
    ck_assert_str_eq(mtask_address_text(&peer, arrived, sizeof arrived), at);
    end_fd(fd);
}

static void *try_several(void *arg) {
    int listener = listen_at("127.0.0.1", 0), other, before;
    unsigned port = port_of(listener);
    fake_hosts("127.0.0.1", NULL, NULL);
    arrive(port, "127.0.0.1");
    before = count_fds();
    fake_hosts("127.0.0.2", "127.0.0.1", NULL);
    arrive(port, "127.0.0.1");
    fake_hosts("127.0.0.2", "127.0.0.3", "127.0.0.1");
    arrive(port, "127.0.0.1");
    fake_hosts("127.0.0.1", "127.0.0.2", NULL);
    arrive(port, "127.0.0.1");
    if (have_ip6()) {
        fake_hosts("::1", "127.0.0.1", NULL);
        arrive(port, "127.0.0.1");
    }
    ck_assert_int_eq(count_fds(), before);
    other = listen_at("127.0.0.2", port);
    fake_hosts("127.0.0.2", "127.0.0.1", NULL);
    arrive(port, "127.0.0.2");
    end_fd(other);
    end_fd(listener);
    return arg;
}

START_TEST(several_addresses_are_tried_in_their_order) {
    everywhere(try_several, NULL);
}
END_TEST

static void *try_several_in_vain(void *arg) {
    char at[MTASK_ADDRESS_TEXT];
    int held = hold_port("127.0.0.1", at);
    fake_hosts("127.0.0.2", "127.0.0.3", "127.0.0.1");
    with_port(at, "several.test", port_of(held));
    ck_assert_int_eq(fail_to_connect(at), ECONNREFUSED);
    close(held);
    return arg;
}

START_TEST(if_none_of_several_addresses_answers_the_last_tells_why) {
    everywhere(try_several_in_vain, NULL);
}
END_TEST

/* Listens on one address of several.test: the first that can be had. */
static void *listen_by_name(void *arg) {
    char at[MTASK_ADDRESS_TEXT];
    int held = hold_port("127.0.0.1", at), fd;
    unsigned port = port_of(held);
    fake_hosts("127.0.0.2", NULL, NULL);
    fd = listen_at("several.test", port);
    text_of(fd, at);
    ck_assert_int_eq(strncmp(at, "127.0.0.2:", 10), 0);
    end_fd(fd);
    close(held);
    return arg;
}

START_TEST(one_listens_by_name) {
    everywhere(listen_by_name, NULL);
}
END_TEST

/* ---- addresses that do not answer ---- */

/* One who listens and never answers, for its backlog is full. */
typedef struct crowded {
    int listener;
    int count;
    int waiting[16];
} crowded;

/* Whether a connection that does not block has come about before long. */
static bool comes_about(int fd) {
    struct pollfd one = {fd, POLLOUT, 0};
    return poll(&one, 1, 20) == 1;
}

static void crowd_out(crowded *self, const char *host, unsigned port) {
    char at[MTASK_ADDRESS_TEXT];
    mtask_address address;
    with_port(at, host, port);
    address = parsed(at);
    self->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    testing_check(bind(self->listener, &address.as.any, address.size) == 0);
    testing_check(listen(self->listener, 0) == 0);
    ck_assert_status(mtask_io_local(self->listener, &address), MTASK_OK);
    for (self->count = 0; self->count < 16; self->count++) {
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        self->waiting[self->count] = fd;
        testing_check(connect(fd, &address.as.any, address.size) == 0 || errno == EINPROGRESS);
        if (!comes_about(fd)) {
            self->count++;
            return;
        }
    }
    ck_abort_msg("the backlog of 0 takes 16");
}

static void end_crowded(crowded *self) {
    close(self->listener);
    while (self->count > 0)
        close(self->waiting[--self->count]);
}

static void *connect_in_vain(void *arg) {
    const char *at = (const char *)arg;
    int64_t start = mtask_now();
    int fd = -2, before = count_fds();
    ck_assert_status(mtask_tcp_connect(&fd, at, MTASK_MS(10)), MTASK_TIMEOUT);
    testing_check(mtask_now() - start >= MTASK_MS(10));
    ck_assert_int_eq(fd, -1);
    fd = -2;
    ck_assert_status(mtask_tcp_connect(&fd, at, MTASK_NOWAIT), MTASK_TIMEOUT);
    ck_assert_int_eq(fd, -1);
    ck_assert_int_eq(count_fds(), before);
    return arg;
}

START_TEST(a_connection_that_is_not_answered_times_out) {
    crowded full;
    char at[MTASK_ADDRESS_TEXT];
    crowd_out(&full, "127.0.0.1", 0);
    text_of(full.listener, at);
    wait_once(); /* what a first wait opens is open before we count */
    everywhere(connect_in_vain, at);
    end_crowded(&full);
}
END_TEST

static void *connect_until_cancelled(void *arg) {
    int fd = -2;
    ck_assert_status(mtask_tcp_connect(&fd, (const char *)arg, LONG), MTASK_CANCELED);
    ck_assert_int_eq(fd, -1);
    return arg;
}

static void *cancel_connects(void *arg) {
    mtask_future *future = go(connect_until_cancelled, arg);
    int before = count_fds();
    take_turns();
    ck_assert_int_eq(count_fds(), before + 1);
    ck_assert_status(mtask_future_cancel(future), MTASK_OK);
    (void)take(future);
    ck_assert_status(mtask_with_timeout(MTASK_MS(1), connect_until_cancelled, arg, NULL),
                     MTASK_TIMEOUT);
    ck_assert_int_eq(count_fds(), before);
    return arg;
}

START_TEST(a_connection_that_is_not_answered_can_be_cancelled) {
    crowded full;
    char at[MTASK_ADDRESS_TEXT];
    crowd_out(&full, "127.0.0.1", 0);
    text_of(full.listener, at);
    (void)in_loop(cancel_connects, at);
    end_crowded(&full);
}
END_TEST

static void *arrive_at_the_second(void *arg) {
    int64_t start = mtask_now();
    arrive(*(unsigned *)arg, "127.0.0.1");
    testing_check(mtask_now() - start >= MTASK_MS(249)); /* it gave the first one so long */
    return arg;
}

START_TEST(when_the_first_address_does_not_answer_the_second_is_tried_beside) {
    crowded full;
    int listener = listen_at("127.0.0.1", 0), before;
    unsigned port = port_of(listener);
    fake_hosts("127.0.0.2", "127.0.0.1", NULL);
    crowd_out(&full, "127.0.0.2", port);
    before = count_fds();
    run_both(arrive_at_the_second, &port, arrive_at_the_second, &port, TASK_AND_THREAD);
    ck_assert_int_le(count_fds(), before + 2); /* of the threads that look names up */
    end_fd(listener);
    end_crowded(&full);
}
END_TEST

/* A Unix socket whose backlog is full refuses to wait (EAGAIN), but the caller asked to. */
typedef struct full_house {
    meeting at;
    mtask_word connected;
} full_house;

static void *connect_to_full_house(void *arg) {
    full_house *self = (full_house *)arg;
    int fds[4];
    for (int i = 0; i < 4; i++)
        fds[i] = connect_to(self->at.at);
    mtask_word_store(&self->connected, 1);
    for (int i = 0; i < 4; i++)
        end_fd(fds[i]);
    return arg;
}

static void *empty_full_house(void *arg) {
    full_house *self = (full_house *)arg;
    ck_assert_status(mtask_sleep(MTASK_MS(5)), MTASK_OK);
    ck_assert_uint_eq(mtask_word_load(&self->connected), 0);
    for (int i = 0; i < 4; i++)
        end_fd(accept_from(self->at.listener));
    return arg;
}

START_TEST(who_connects_to_a_full_unix_socket_waits) {
    mtask_listen_desc desc = {.backlog = 1};
    full_house self = {.connected = 0};
    open_folder();
    unix_at(self.at.at, "s");
    ck_assert_status(mtask_tcp_listen(&self.at.listener, self.at.at, &desc), MTASK_OK);
    for (int where = 0; where < PLACES; where++) {
        mtask_word_store(&self.connected, 0);
        run_both(connect_to_full_house, &self, empty_full_house, &self, (place)where);
    }
    end_fd(self.at.listener);
    end_folder();
}
END_TEST

static void *connect_to_full_in_vain(void *arg) {
    const char *at = (const char *)arg;
    int fds[2];
    for (int i = 0; i < 2; i++)
        fds[i] = connect_to(at);
    (void)connect_in_vain(arg);
    if (mtask_loop_current() != NULL) {
        mtask_future *future = go(connect_until_cancelled, arg);
        take_turns();
        ck_assert_status(mtask_future_cancel(future), MTASK_OK);
        (void)take(future);
    }
    end_fds(fds);
    return arg;
}

START_TEST(waiting_for_a_full_unix_socket_times_out) {
    mtask_listen_desc desc = {.backlog = 1};
    meeting self;
    open_folder();
    for (int i = 0; i < 2; i++) {
        unix_at(self.at, i == 0 ? "a" : "b");
        ck_assert_status(mtask_tcp_listen(&self.listener, self.at, &desc), MTASK_OK);
        if (i == 0)
            (void)in_thread(connect_to_full_in_vain, self.at);
        else
            (void)in_loop(connect_to_full_in_vain, self.at);
        end_fd(self.listener);
    }
    end_folder();
}
END_TEST

/* ---- who waits for connections ---- */

static void *accept_in_vain(void *arg) {
    int listener = *(int *)arg, fd = -2;
    int64_t start = mtask_now();
    ck_assert_status(mtask_tcp_accept(listener, &fd, NULL, MTASK_NOWAIT), MTASK_TIMEOUT);
    ck_assert_int_eq(fd, -1);
    fd = -2;
    ck_assert_status(mtask_tcp_accept(listener, &fd, NULL, MTASK_MS(3)), MTASK_TIMEOUT);
    testing_check(mtask_now() - start >= MTASK_MS(3));
    ck_assert_int_eq(fd, -1);
    return arg;
}

START_TEST(accepting_times_out) {
    char at[MTASK_ADDRESS_TEXT];
    int listener = listen_on("127.0.0.1:0", at);
    everywhere(accept_in_vain, &listener);
    end_fd(listener);
}
END_TEST

static void *accept_until_cancelled(void *arg) {
    int fd = -2;
    ck_assert_status(mtask_tcp_accept(*(int *)arg, &fd, NULL, LONG), MTASK_CANCELED);
    ck_assert_int_eq(fd, -1);
    return arg;
}

static void *cancel_accepts(void *arg) {
    mtask_future *futures[3];
    for (int i = 0; i < 3; i++)
        futures[i] = go(accept_until_cancelled, arg);
    take_turns();
    for (int i = 0; i < 3; i++) {
        ck_assert_status(mtask_future_cancel(futures[i]), MTASK_OK);
        (void)take(futures[i]);
    }
    ck_assert_status(mtask_with_timeout(MTASK_MS(1), accept_until_cancelled, arg, NULL),
                     MTASK_TIMEOUT);
    return arg;
}

START_TEST(accepting_can_be_cancelled) {
    char at[MTASK_ADDRESS_TEXT];
    int listener = listen_on("127.0.0.1:0", at);
    (void)in_loop(cancel_accepts, &listener);
    end_fd(listener);
}
END_TEST

static void try_to_accept_there(void *arg) {
    int fd = -2;
    ck_assert_status(mtask_tcp_accept(*(int *)arg, &fd, NULL, LONG), MTASK_DEADLOCK);
    ck_assert_int_eq(fd, -1);
}

static void *accept_in_a_posted_call(void *arg) {
    mtask_loop_call call = {.fn = try_to_accept_there, .arg = arg};
    ck_assert_status(mtask_loop_post(mtask_loop_current(), &call), MTASK_OK);
    while (__atomic_load_n(&call.posted, __ATOMIC_ACQUIRE) != 0)
        ck_assert_status(mtask_yield(), MTASK_OK); /* it lies on this stack */
    return arg;
}

START_TEST(the_loop_itself_does_not_accept) {
    char at[MTASK_ADDRESS_TEXT];
    int listener = listen_on("127.0.0.1:0", at);
    (void)in_loop(accept_in_a_posted_call, &listener);
    end_fd(listener);
}
END_TEST

#define GUESTS 40

/* Several who accept on one listener, tasks and threads, until it is closed. */
typedef struct doormen {
    meeting at;
    mtask_word seen[GUESTS]; /* how often each guest was let in */
    mtask_word total;
} doormen;

static void *let_in(void *arg) {
    doormen *self = (doormen *)arg;
    int fd = -2;
    mtask_status status;
    while ((status = mtask_tcp_accept(self->at.listener, &fd, NULL, LONG)) == MTASK_OK) {
        unsigned char guest = GUESTS;
        ck_assert_status(mtask_io_read(fd, &guest, 1, NULL, LONG), MTASK_OK);
        testing_check(guest < GUESTS);
        (void)mtask_word_add(&self->seen[guest], 1);
        (void)mtask_word_add(&self->total, 1);
        end_fd(fd);
    }
    ck_assert_status(status, MTASK_BROKEN);
    ck_assert_int_eq(fd, -1);
    return arg;
}

static void *let_in_by_three(void *arg) {
    mtask_future *futures[3];
    for (int i = 0; i < 3; i++)
        futures[i] = go(let_in, arg);
    for (int i = 0; i < 3; i++)
        (void)take(futures[i]);
    return arg;
}

/* Two loops with three tasks each, and two threads. */
static void be_doorman(testing_member *self) {
    if (self->index < 2)
        (void)in_loop(let_in_by_three, self->arg);
    else
        (void)let_in(self->arg);
}

START_TEST(tasks_and_threads_accept_on_one_listener) {
    doormen self = {.total = 0};
    testing_crowd crowd;
    self.at.listener = listen_on("127.0.0.1:0", self.at.at);
    testing_crowd_start(&crowd, 4, be_doorman, &self);
    testing_crowd_await_asleep(&crowd, 4);
    for (unsigned char i = 0; i < GUESTS; i++) {
        int fd = connect_to(self.at.at);
        ck_assert_status(mtask_io_write(fd, &i, 1, NULL, LONG), MTASK_OK);
        end_fd(fd);
    }
    await_value(&self.total, GUESTS);
    testing_crowd_await_asleep(&crowd, 4);
    end_fd(self.at.listener);
    testing_crowd_join(&crowd);
    for (int i = 0; i < GUESTS; i++)
        ck_assert_uint_eq(mtask_word_load(&self.seen[i]), 1);
}
END_TEST

/* ---- whose address it is ---- */

/* Accepts all that are waiting; how many they were. */
static int accept_all(int listener) {
    int count = 0, fd = -2;
    while (mtask_tcp_accept(listener, &fd, NULL, MTASK_NOWAIT) == MTASK_OK) {
        end_fd(fd);
        count++;
    }
    return count;
}

START_TEST(two_listen_on_one_port_only_if_both_share_it) {
    mtask_listen_desc sharing = {.share_port = true};
    char at[MTASK_ADDRESS_TEXT];
    int one = -2, other = -2;
    one = listen_on("127.0.0.1:0", at);
    ck_assert_int_eq(fail_to_listen(at, NULL), EADDRINUSE);
    ck_assert_int_eq(fail_to_listen(at, &sharing), EADDRINUSE);
    end_fd(one);
    ck_assert_status(mtask_tcp_listen(&one, "127.0.0.1:0", &sharing), MTASK_OK);
    text_of(one, at);
    ck_assert_int_eq(fail_to_listen(at, NULL), EADDRINUSE);
    ck_assert_status(mtask_tcp_listen(&other, at, &sharing), MTASK_OK);
    ck_assert_uint_eq(port_of(one), port_of(other));
    for (int i = 0; i < 32; i++)
        end_fd(connect_to(at));
    for (int accepted = 0; accepted < 32;)
        accepted += accept_all(one) + accept_all(other);
    end_fd(one);
    end_fd(other);
}
END_TEST

START_TEST(a_port_can_be_had_again_at_once) {
    char at[MTASK_ADDRESS_TEXT];
    for (int i = 0, port = 0; i < 5; i++) {
        int listener, client, served;
        with_port(at, "127.0.0.1", (unsigned)port);
        listener = listen_on(at, at);
        port = (int)port_of(listener);
        client = connect_to(at);
        served = accept_from(listener);
        end_fd(served); /* closed first here: its port lingers on (TIME_WAIT) */
        end_fd(client);
        end_fd(listener);
    }
}
END_TEST

/* Whether something is there under that path. */
static bool is_there(const char *path) {
    struct stat info;
    return lstat(path, &info) == 0;
}

static void *replace_stale(void *arg) {
    char at[MTASK_ADDRESS_TEXT], real[MTASK_ADDRESS_TEXT];
    mtask_address address;
    int stale = socket(AF_UNIX, SOCK_STREAM, 0), fd;
    unix_at(at, "stale");
    address = parsed(at);
    testing_check(bind(stale, &address.as.any, address.size) == 0 && listen(stale, 1) == 0);
    close(stale);
    testing_check(is_there(at + 5));
    ck_assert_int_eq(fail_to_connect(at), ECONNREFUSED);
    fd = listen_on(at, real);
    ck_assert_str_eq(at, real);
    end_fd(connect_to(at));
    ck_assert_int_eq(fail_to_listen(at, NULL), EADDRINUSE); /* it lives */
    end_fd(connect_to(at));
    end_fd(accept_from(fd));
    end_fd(fd);
    (void)unlink(at + 5);
    return arg;
}

START_TEST(the_file_of_a_unix_socket_that_is_dead_is_replaced) {
    open_folder();
    everywhere(replace_stale, NULL);
    end_folder();
}
END_TEST

START_TEST(a_file_that_is_no_socket_is_left_alone) {
    char at[MTASK_ADDRESS_TEXT], text[8] = "";
    int fd;
    open_folder();
    unix_at(at, "precious");
    fd = open(at + 5, O_CREAT | O_RDWR, 0600);
    feed(fd, "gold");
    ck_assert_int_eq(fail_to_listen(at, NULL), EADDRINUSE);
    testing_check(pread(fd, text, sizeof text, 0) == 4 && is_there(at + 5));
    ck_assert_str_eq(text, "gold");
    close(fd);
    testing_check(unlink(at + 5) == 0 && mkdir(at + 5, 0700) == 0);
    ck_assert_int_eq(fail_to_listen(at, NULL), EADDRINUSE);
    testing_check(is_there(at + 5));
    unix_at(at, "missing/s");
    ck_assert_int_eq(fail_to_listen(at, NULL), ENOENT);
    end_folder();
}
END_TEST

START_TEST(an_address_of_another_machine_cannot_be_had) {
    ck_assert_int_eq(fail_to_listen("203.0.113.1:0", NULL), EADDRNOTAVAIL);
}
END_TEST

/* ---- connections that break, and a lack of descriptors ---- */

static void *accept_what_is_left(void *arg) {
    char at[MTASK_ADDRESS_TEXT];
    int listener = listen_on("127.0.0.1:0", at), broken = 0;
    struct linger reset = {1, 0};
    char byte = '\0';
    for (int i = 0; i < 3; i++) {
        int fd = connect_to(at);
        testing_check(setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset) == 0);
        end_fd(fd);
    }
    for (int good = connect_to(at), fd = -2; good >= 0; end_fd(fd)) {
        mtask_status status;
        ck_assert_status(mtask_io_write(good, "g", 1, NULL, LONG), MTASK_OK);
        fd = accept_from(listener);
        status = mtask_io_read(fd, &byte, 1, NULL, LONG);
        if (status == MTASK_OK) {
            end_fd(good);
            good = -1;
            continue;
        }
        ck_assert_status(status, MTASK_BROKEN);
        ck_assert_int_eq(errno, ECONNRESET);
        testing_check(++broken <= 3);
    }
    ck_assert_int_eq(byte, 'g');
    end_fd(listener);
    return arg;
}

START_TEST(a_connection_that_was_reset_before_it_was_accepted_does_no_harm) {
    everywhere(accept_what_is_left, NULL);
}
END_TEST

/* Leaves no descriptor to be had; how many there could be before. */
static rlim_t take_all_descriptors(void) {
    struct rlimit limit;
    rlim_t before;
    int next = dup(0);
    testing_check(next >= 0 && close(next) == 0);
    testing_check(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    before = limit.rlim_cur;
    limit.rlim_cur = (rlim_t)next;
    testing_check(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    return before;
}

static void give_descriptors_back(rlim_t before) {
    struct rlimit limit;
    testing_check(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    limit.rlim_cur = before;
    testing_check(setrlimit(RLIMIT_NOFILE, &limit) == 0);
}

static void *run_out_of_descriptors(void *arg) {
    char at[MTASK_ADDRESS_TEXT];
    int listener = listen_on("127.0.0.1:0", at), client = connect_to(at), fd = -2, served;
    rlim_t before;
    ck_assert_status(mtask_io_wait(listener, MTASK_IO_READ, LONG), MTASK_OK);
    before = take_all_descriptors();
    for (int i = 0; i < 3; i++) {
        fd = -2;
        errno = 0;
        ck_assert_status(mtask_tcp_accept(listener, &fd, NULL, LONG), MTASK_SYSTEM);
        ck_assert_int_eq(errno, EMFILE);
        ck_assert_int_eq(fd, -1);
    }
    ck_assert_int_eq(fail_to_connect(at), EMFILE);
    ck_assert_int_eq(fail_to_listen("127.0.0.1:0", NULL), EMFILE);
    give_descriptors_back(before);
    served = accept_from(listener); /* it was waiting */
    check_connected(client, served);
    end_fd(client);
    end_fd(served);
    end_fd(listener);
    return arg;
}

START_TEST(without_a_descriptor_a_connection_goes_on_waiting) {
    everywhere(run_out_of_descriptors, NULL);
}
END_TEST

/* ---- sockets of the caller's ---- */

static void *connect_own(void *arg) {
    char at[MTASK_ADDRESS_TEXT], refusing[MTASK_ADDRESS_TEXT];
    int listener = listen_on("127.0.0.1:0", at), held = hold_port("127.0.0.1", refusing);
    mtask_address here = parsed(at), nowhere = parsed(refusing);
    for (int i = 0; i < 2; i++) {
        int own = socket(AF_INET, SOCK_STREAM, 0), served;
        if (i == 1)
            ck_assert_status(mtask_io_adopt(own), MTASK_OK);
        ck_assert_status(mtask_io_connect(own, &here, LONG), MTASK_OK);
        ck_assert_int_eq(is_blocking(own), i == 0); /* it is left as it was */
        served = accept_from(listener);
        check_connected(own, served);
        end_fd(served);
        end_fd(own);
        own = socket(AF_INET, SOCK_STREAM, 0);
        ck_assert_status(mtask_io_connect(own, &nowhere, LONG), MTASK_SYSTEM);
        ck_assert_int_eq(errno, ECONNREFUSED);
        testing_check(close(own) == 0);
    }
    close(held);
    end_fd(listener);
    return arg;
}

START_TEST(a_socket_of_the_callers_can_be_connected) {
    everywhere(connect_own, NULL);
}
END_TEST

START_TEST(a_socket_of_the_callers_can_listen) {
    char at[MTASK_ADDRESS_TEXT];
    int listener = hold_port("127.0.0.1", at), client, served;
    testing_check(listen(listener, 1) == 0);
    client = connect_to(at);
    served = accept_from(listener);
    testing_check(!is_blocking(served) && (fcntl(served, F_GETFD) & FD_CLOEXEC) != 0);
    check_connected(client, served);
    end_fd(client);
    end_fd(served);
    testing_check(is_blocking(listener) && close(listener) == 0);
}
END_TEST

/* ---- datagrams ---- */

static int open_udp(const char *local, const char *remote) {
    int fd = -2;
    ck_assert_status(mtask_udp_open(&fd, local, remote, LONG), MTASK_OK);
    testing_check(fd >= 0 && !is_blocking(fd) && (fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
    return fd;
}

/* Receives a datagram that must be this text. */
static void receive_text(int fd, const char *expected, mtask_address *from) {
    char text[256];
    size_t count = 999;
    ck_assert_status(mtask_io_recvfrom(fd, text, sizeof text - 1, &count, from, LONG), MTASK_OK);
    testing_check(count < sizeof text);
    text[count] = '\0';
    ck_assert_str_eq(text, expected);
}

static void send_text(int fd, const char *text, const mtask_address *to) {
    ck_assert_status(mtask_io_sendto(fd, text, strlen(text), to, LONG), MTASK_OK);
}

/* Answers datagrams until "end". */
static void *answer_datagrams(void *arg) {
    int fd = *(int *)arg;
    char text[256];
    size_t count = 0;
    mtask_address from;
    do {
        ck_assert_status(mtask_io_recvfrom(fd, text, sizeof text, &count, &from, LONG), MTASK_OK);
        ck_assert_status(mtask_io_sendto(fd, text, count, &from, LONG), MTASK_OK);
    } while (count != 3 || memcmp(text, "end", 3) != 0);
    return arg;
}

static void *ask_by_datagrams(void *arg) {
    static const char *const texts[] = {"a", "hello", "", "end"};
    mtask_address there, from;
    char any[MTASK_ADDRESS_TEXT];
    int fd;
    ck_assert_status(mtask_io_local(*(int *)arg, &there), MTASK_OK);
    with_port(any, there.as.any.sa_family == AF_INET ? "127.0.0.1" : "[::1]", 0);
    fd = open_udp(any, NULL);
    for (long i = 0; i < COUNT_OF(texts); i++) {
        send_text(fd, texts[i], &there);
        memset(&from, 0, sizeof from);
        receive_text(fd, texts[i], &from);
        testing_check(same_address(&from, &there));
    }
    end_fd(fd);
    return arg;
}

static void exchange_datagrams(const char *address) {
    int fd = open_udp(address, NULL);
    for (int where = 0; where < PLACES; where++)
        run_both(answer_datagrams, &fd, ask_by_datagrams, &fd, (place)where);
    end_fd(fd);
}

START_TEST(datagrams_go_to_and_fro) {
    exchange_datagrams("127.0.0.1:0");
    if (have_ip6())
        exchange_datagrams("[::1]:0");
}
END_TEST

static void *connect_datagrams(void *arg) {
    char at[MTASK_ADDRESS_TEXT];
    int one = open_udp("127.0.0.1:0", NULL), other;
    mtask_address from, local;
    text_of(one, at);
    other = open_udp(NULL, at);
    send_text(other, "connected", NULL);
    receive_text(one, "connected", &from);
    ck_assert_status(mtask_io_local(other, &local), MTASK_OK);
    testing_check(same_address(&from, &local));
    ck_assert_status(mtask_io_write(other, "written", 7, NULL, LONG), MTASK_OK);
    receive_text(one, "written", NULL);
    send_text(one, "back", &from);
    receive_text(other, "back", NULL);
    end_fd(one);
    end_fd(other);
    return arg;
}

START_TEST(a_datagram_socket_can_be_connected) {
    everywhere(connect_datagrams, NULL);
}
END_TEST

static void *truncate_datagrams(void *arg) {
    char at[MTASK_ADDRESS_TEXT], text[8] = "";
    int one = open_udp("127.0.0.1:0", NULL), other;
    mtask_address from;
    size_t count = 999;
    text_of(one, at);
    other = open_udp("127.0.0.1:0", at);
    send_text(other, "0123456789", NULL);
    send_text(other, "fits", NULL);
    send_text(other, "0", NULL);
    send_text(other, "", NULL);
    ck_assert_status(mtask_io_recvfrom(one, text, 4, &count, &from, LONG), MTASK_OVERFLOW);
    ck_assert_uint_eq(count, 4);
    ck_assert_str_eq(text, "0123");
    ck_assert_uint_eq(mtask_address_port(&from), port_of(other));
    ck_assert_status(mtask_io_recvfrom(one, text, 4, &count, NULL, LONG), MTASK_OK);
    ck_assert_uint_eq(count, 4);
    ck_assert_str_eq(text, "fits");
    receive_text(one, "0", NULL);
    receive_text(one, "", NULL);
    end_fd(one);
    end_fd(other);
    return arg;
}

START_TEST(a_datagram_that_is_too_long_is_cut) {
    everywhere(truncate_datagrams, NULL);
}
END_TEST

static void *lose_datagrams(void *arg) {
    static char much[70000];
    char at[MTASK_ADDRESS_TEXT], byte;
    mtask_status status;
    mtask_address there;
    int held = open_udp("127.0.0.1:0", NULL), fd;
    text_of(held, at);
    there = parsed(at);
    fd = open_udp(NULL, at);
    errno = 0;
    ck_assert_status(mtask_io_sendto(fd, much, sizeof much, NULL, LONG), MTASK_SYSTEM);
    ck_assert_int_eq(errno, EMSGSIZE);
    end_fd(held); /* now nobody is there */
    send_text(fd, "a", NULL);
    status = mtask_io_recvfrom(fd, &byte, 1, NULL, NULL, LONG);
    testing_check(status == MTASK_BROKEN || status == MTASK_SYSTEM);
    ck_assert_int_eq(errno, ECONNREFUSED);
    ck_assert_status(mtask_io_recvfrom(fd, &byte, 1, NULL, NULL, MTASK_NOWAIT), MTASK_TIMEOUT);
    end_fd(fd);
    fd = open_udp("127.0.0.1:0", NULL);
    send_text(fd, "into the blue", &there); /* who is not connected does not hear of it */
    ck_assert_status(mtask_io_recvfrom(fd, &byte, 1, NULL, NULL, MTASK_MS(1)), MTASK_TIMEOUT);
    end_fd(fd);
    return arg;
}

START_TEST(a_datagram_that_nobody_takes_is_told_of_where_it_can_be) {
    everywhere(lose_datagrams, NULL);
}
END_TEST

static void *misuse_datagrams(void *arg) {
    int fd = -2;
    ck_assert_status(mtask_udp_open(&fd, NULL, NULL, LONG), MTASK_INVALID);
    ck_assert_int_eq(fd, -1);
    fd = -2;
    ck_assert_status(mtask_udp_open(&fd, "nonsense", NULL, LONG), MTASK_INVALID);
    ck_assert_int_eq(fd, -1);
    fd = -2;
    ck_assert_status(mtask_udp_open(&fd, NULL, "none.test:80", LONG), MTASK_NOT_FOUND);
    ck_assert_int_eq(fd, -1);
    fd = -2;
    ck_assert_status(mtask_udp_open(&fd, "203.0.113.1:0", NULL, LONG), MTASK_SYSTEM);
    ck_assert_int_eq(errno, EADDRNOTAVAIL);
    ck_assert_int_eq(fd, -1);
    fd = open_udp("127.0.0.1:0", NULL);
    errno = 0;
    ck_assert_status(mtask_io_sendto(fd, "a", 1, NULL, LONG), MTASK_SYSTEM); /* to whom? */
    ck_assert_int_eq(errno, EDESTADDRREQ);
    ck_assert_status(mtask_io_recvfrom(fd, &fd, 1, NULL, NULL, -1), MTASK_INVALID);
    end_fd(fd);
    return arg;
}

START_TEST(what_cannot_be_is_refused_of_datagrams_too) {
    everywhere(misuse_datagrams, NULL);
}
END_TEST

static void *receive_until_cancelled(void *arg) {
    char byte;
    ck_assert_status(mtask_io_recvfrom(*(int *)arg, &byte, 1, NULL, NULL, LONG), MTASK_CANCELED);
    return arg;
}

static void *receive_until_closed(void *arg) {
    char byte;
    ck_assert_status(mtask_io_recvfrom(*(int *)arg, &byte, 1, NULL, NULL, LONG), MTASK_BROKEN);
    ck_assert_int_eq(errno, EBADF);
    return arg;
}

static void *give_up_datagrams(void *arg) {
    int fd = open_udp("127.0.0.1:0", NULL);
    mtask_future *future = go(receive_until_cancelled, &fd);
    take_turns();
    ck_assert_status(mtask_future_cancel(future), MTASK_OK);
    (void)take(future);
    ck_assert_status(mtask_with_timeout(MTASK_MS(1), receive_until_cancelled, &fd, NULL),
                     MTASK_TIMEOUT);
    future = go(receive_until_closed, &fd);
    take_turns();
    end_fd(fd);
    (void)take(future);
    return arg;
}

START_TEST(waiting_for_a_datagram_ends_by_cancellation_and_closing) {
    (void)in_loop(give_up_datagrams, NULL);
}
END_TEST

static void *receive_from_stream(void *arg) {
    mtask_address from;
    int ends[2];
    open_tcp(ends);
    ck_assert_status(mtask_io_sendto(ends[0], "stream", 6, NULL, LONG), MTASK_OK);
    receive_text(ends[1], "stream", &from);
    end_fd(ends[0]);
    ck_assert_status(mtask_io_recvfrom(ends[1], &from, 1, NULL, NULL, LONG), MTASK_CLOSED);
    end_fd(ends[1]);
    return arg;
}

START_TEST(on_a_stream_receiving_is_reading) {
    everywhere(receive_from_stream, NULL);
}
END_TEST

TESTING_MAIN(
    "net", an_address_is_read_from_its_text_and_written_as_it,
    all_addresses_of_a_machine_have_short_names, every_ip_address_survives_being_written_and_read,
    the_path_of_a_unix_socket_may_be_as_long_as_the_system_lets_it,
    the_name_of_an_abstract_socket_begins_with_a_zero, what_is_no_address_is_refused,
    what_is_hardly_an_address_is_not_taken_for_one, a_name_has_to_be_looked_up,
    random_text_is_an_address_or_not, the_text_of_an_address_fits_in_any_room,
    an_address_that_is_none_has_a_text_and_no_port, an_address_may_name_its_network_interface,
    the_addresses_of_a_socket_can_be_asked_for, what_is_no_name_is_answered_at_once,
    localhost_is_found, a_service_is_found_or_not, a_look_up_tells_why_it_failed,
    a_name_that_nobody_has_is_not_found, as_many_addresses_are_written_as_there_is_room_for,
    a_name_longer_than_any_is_not_found, nobody_hears_of_an_answer_that_comes_too_late,
    a_look_up_can_be_cancelled, more_look_ups_than_threads_end_all, two_meet_by_ipv4,
    two_meet_by_ipv6, two_meet_at_a_unix_socket, two_meet_by_name,
    a_free_port_is_another_one_each_time, who_listens_on_all_addresses_is_reached_by_both_versions,
    who_listens_on_ipv6_alone_is_not_reached_by_ipv4, where_nobody_listens_a_connection_is_refused,
    what_cannot_be_is_refused, only_who_listens_accepts, several_addresses_are_tried_in_their_order,
    if_none_of_several_addresses_answers_the_last_tells_why, one_listens_by_name,
    a_connection_that_is_not_answered_times_out, a_connection_that_is_not_answered_can_be_cancelled,
    when_the_first_address_does_not_answer_the_second_is_tried_beside,
    who_connects_to_a_full_unix_socket_waits, waiting_for_a_full_unix_socket_times_out,
    accepting_times_out, accepting_can_be_cancelled, the_loop_itself_does_not_accept,
    tasks_and_threads_accept_on_one_listener, two_listen_on_one_port_only_if_both_share_it,
    a_port_can_be_had_again_at_once, the_file_of_a_unix_socket_that_is_dead_is_replaced,
    a_file_that_is_no_socket_is_left_alone, an_address_of_another_machine_cannot_be_had,
    a_connection_that_was_reset_before_it_was_accepted_does_no_harm,
    without_a_descriptor_a_connection_goes_on_waiting, a_socket_of_the_callers_can_be_connected,
    a_socket_of_the_callers_can_listen, datagrams_go_to_and_fro, a_datagram_socket_can_be_connected,
    a_datagram_that_is_too_long_is_cut, a_datagram_that_nobody_takes_is_told_of_where_it_can_be,
    what_cannot_be_is_refused_of_datagrams_too,
    waiting_for_a_datagram_ends_by_cancellation_and_closing, on_a_stream_receiving_is_reading)
