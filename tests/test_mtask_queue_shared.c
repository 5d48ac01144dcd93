/* test_mtask_queue_shared.c - queues that processes share (MTASK_SHARED); killed processes are in
   test_mtask_queue_kill.c

   Other processes are children that attach a handle of their own; or this very program, executed
   with arguments: then it knows nothing but the descriptor of the memory. Where the system cannot
   share (MTASK_FORCE_POSIX builds) the first test shows that init says so, and is the only one. */
#include "testing_threads.h"
#include "../mtask_queue.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/wait.h>

#ifdef MTASK_FORCE_POSIX
enum { CAN_SHARE = 0 };
#else
enum { CAN_SHARE = 1 };
#endif

#if TESTING_TSAN
/* The queue's locks are robust pthread mutexes, of whose other users in other processes TSan knows
   nothing. */
const char *__tsan_default_options(void);
const char *__tsan_default_options(void) {
    return "report_mutex_bugs=0:report_destroy_locked=0";
}
#endif

enum {
    KINDS = 3,
    CAPACITY_MAX = 1000,
    CROWD = 4, /* most producers, and most consumers, of the stress test */
    RANKS = 3,
    SERIALS = 40000,
    BATCH = 7
};

static const mtask_queue_kind kinds[KINDS] = {MTASK_FIFO, MTASK_LIFO, MTASK_PRIORITY};

/* An item that shows whether it came through whole. */
typedef struct parcel {
    uint32_t producer;
    uint32_t rank; /* what a priority queue orders by */
    uint64_t serial;
    uint64_t check; /* of the other fields */
} parcel;

MTASK_QUEUE_TYPE(parcels, parcel);

/* What the processes of a test share. */
typedef struct world {
    MTASK_QUEUE_STORAGE(storage, CAPACITY_MAX, sizeof(parcel));
    MTASK_QUEUE_STORAGE(other, 16, sizeof(parcel));
    mtask_queue_kind kind;
    size_t capacity;
    uint64_t seed;
    int64_t end;         /* of a stress test */
    int producers;       /* of a stress test */
    bool closed_early;   /* a stress test: perhaps before each producer put something */
    uint64_t put[CROWD]; /* how many items each producer has put */
    uint8_t seen[CROWD][SERIALS];
} world;

static void *share(size_t size) {
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    testing_check(memory != MAP_FAILED);
    return memory;
}

/* ---- items ---- */

static uint64_t checksum(const parcel *item) {
    uint64_t sum = item->serial * UINT64_C(0x9e3779b97f4a7c15) + item->rank;
    return (sum ^ sum >> 29) * UINT64_C(0xbf58476d1ce4e5b9) + item->producer;
}

static parcel make_parcel(int producer, uint32_t rank, uint64_t serial) {
    parcel item = {(uint32_t)producer, rank, serial, 0};
    item.check = checksum(&item);
    return item;
}

static bool is_whole(const parcel *item) {
    return item->check == checksum(item);
}

static int by_rank(const void *a, const void *b, void *ctx) {
    const parcel *one = (const parcel *)a;
    const parcel *two = (const parcel *)b;
    if (ctx != NULL)
        ++*(int *)ctx;
    testing_check(is_whole(one) && is_whole(two));
    return one->rank < two->rank ? -1 : one->rank > two->rank;
}

/* The same order, but another function: handles do not share it. */
static int by_rank_too(const void *a, const void *b, void *ctx) {
    return -by_rank(b, a, ctx);
}

/* ---- queues ---- */

static mtask_queue_desc describe(world *all, mtask_queue_kind kind, size_t capacity) {
    mtask_queue_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.kind = kind;
    desc.capacity = capacity;
    desc.item_size = sizeof(parcel);
    desc.compare = kind == MTASK_PRIORITY ? by_rank : NULL;
    desc.storage = all->storage;
    desc.storage_size = sizeof all->storage;
    desc.flags = MTASK_SHARED;
    return desc;
}

/* A fresh world with a queue that `queue` is the maker's handle on. */
static world *make_world(mtask_queue *queue, mtask_queue_kind kind, size_t capacity) {
    world *all = (world *)share(sizeof *all);
    mtask_queue_desc desc = describe(all, kind, capacity);
    all->kind = kind;
    all->capacity = capacity;
    ck_assert_status(mtask_queue_init(queue, &desc), MTASK_OK);
    return all;
}

static void unmake_world(world *all, mtask_queue *queue) {
    ck_assert_status(mtask_queue_deinit(queue), MTASK_OK);
    testing_check(munmap(all, sizeof *all) == 0);
}

/* A handle of this process' own. */
static void attach(mtask_queue *queue, world *all) {
    mtask_queue_desc desc = describe(all, all->kind, all->capacity);
    if (all->kind == MTASK_PRIORITY)
        desc.compare = by_rank_too;
    ck_assert_status(mtask_queue_attach(queue, &desc), MTASK_OK);
}

static void put_parcel(mtask_queue *queue, uint32_t rank, uint64_t serial) {
    parcel item = make_parcel(0, rank, serial);
    ck_assert_status(mtask_queue_put(queue, &item, MTASK_FOREVER), MTASK_OK);
}

/* Takes an item out and fails the test unless it is number `serial`. */
static void get_parcel(mtask_queue *queue, uint64_t serial) {
    parcel item;
    ck_assert_status(mtask_queue_get(queue, &item, MTASK_FOREVER), MTASK_OK);
    ck_assert(is_whole(&item));
    ck_assert_uint_eq(item.serial, serial);
}

static void fill(mtask_queue *queue, size_t count) {
    for (size_t i = 0; i < count; i++)
        put_parcel(queue, 0, i);
}

/* ---- processes ---- */

/* Starts a process that runs fn(all, index) and ends. */
static pid_t spawn(void (*fn)(world *all, int index), world *all, int index) {
    pid_t pid = fork();
    testing_check(pid >= 0);
    if (pid == 0) {
        fn(all, index);
        _exit(0);
    }
    return pid;
}

/* Waits for the end of a process; fails the test if something failed there. */
static void reap(pid_t pid) {
    int status = 0;
    testing_check(waitpid(pid, &status, 0) == pid);
    ck_assert_msg(status == 0, "a child ended with %#x", (unsigned)status);
}

/* Starts fn(all, index), and returns when it is asleep in its wait. */
static pid_t spawn_waiter(void (*fn)(world *all, int index), world *all, int index) {
    pid_t pid = spawn(fn, all, index);
    testing_await_process_asleep(pid);
    return pid;
}

/* ---- making ---- */

START_TEST(init_makes_a_shared_queue_or_says_that_it_is_unsupported) {
    mtask_status expected = CAN_SHARE ? MTASK_OK : MTASK_UNSUPPORTED;
    world *all = (world *)share(sizeof *all);
    for (int i = 0; i < KINDS; i++) {
        mtask_queue queue;
        mtask_queue_desc desc = describe(all, kinds[i], 3);
        ck_assert_status(mtask_queue_init(&queue, &desc), expected);
        if (expected == MTASK_OK)
            ck_assert_status(mtask_queue_deinit(&queue), MTASK_OK);
    }
}
END_TEST

START_TEST(init_refuses_what_cannot_be_shared) {
    world *all = (world *)share(sizeof *all);
    mtask_queue queue;
    for (int i = 0; i < KINDS; i++) {
        const mtask_queue_desc good = describe(all, kinds[i], 3);
        mtask_queue_desc bad = good;
        bad.storage = NULL;
        ck_assert_status(mtask_queue_init(&queue, &bad), MTASK_INVALID);
        bad.storage_size = 0;
        ck_assert_status(mtask_queue_init(&queue, &bad), MTASK_INVALID);
        bad = good;
        bad.capacity = MTASK_UNBOUNDED;
        ck_assert_status(mtask_queue_init(&queue, &bad), MTASK_INVALID);
        bad = good;
        bad.capacity = 0;
        ck_assert_status(mtask_queue_init(&queue, &bad), MTASK_INVALID);
        bad = good;
        bad.item_size = 0;
        ck_assert_status(mtask_queue_init(&queue, &bad), MTASK_INVALID);
        bad = good;
        bad.compare = good.compare == NULL ? by_rank : NULL;
        ck_assert_status(mtask_queue_init(&queue, &bad), MTASK_INVALID);
        bad = good;
        bad.flags |= 1 << 30;
        ck_assert_status(mtask_queue_init(&queue, &bad), MTASK_INVALID);
    }
}
END_TEST

START_TEST(init_refuses_storage_that_is_misaligned_or_too_small) {
    world *all = (world *)share(sizeof *all);
    mtask_queue queue;
    for (int i = 0; i < KINDS; i++) {
        const mtask_queue_desc good = describe(all, kinds[i], 3);
        mtask_queue_desc bad = good;
        for (size_t shift = 1; shift < MTASK_QUEUE_ALIGN; shift *= 2) {
            bad.storage = all->storage + shift;
            ck_assert_status(mtask_queue_init(&queue, &bad), MTASK_INVALID);
        }
        bad = good;
        bad.storage_size = mtask_queue_storage_size(&good) - 1;
        ck_assert_status(mtask_queue_init(&queue, &bad), MTASK_INVALID);
        bad.storage_size++;
        ck_assert_status(mtask_queue_init(&queue, &bad), MTASK_OK);
        ck_assert_status(mtask_queue_deinit(&queue), MTASK_OK);
    }
}
END_TEST

static int by_first_byte(const void *a, const void *b, void *ctx) {
    (void)ctx;
    return *(const unsigned char *)a - *(const unsigned char *)b;
}

/* Fills a queue of items of `size` bytes that lies in exactly as much storage as it needs, and
   empties it, `rounds` times. */
static void use_exact_storage(mtask_queue_desc *desc, int rounds) {
    unsigned char item[16], expected[16];
    unsigned char *end = (unsigned char *)desc->storage + desc->storage_size;
    mtask_queue queue;
    memset(end, 0x5a, MTASK_QUEUE_ALIGN);
    ck_assert_status(mtask_queue_init(&queue, desc), MTASK_OK);
    for (int round = 0; round < rounds; round++) {
        memset(item, round, sizeof item);
        for (size_t i = 0; i < desc->capacity; i++)
            ck_assert_status(mtask_queue_put(&queue, item, MTASK_NOWAIT), MTASK_OK);
        ck_assert_status(mtask_queue_put(&queue, item, MTASK_NOWAIT), MTASK_FULL);
        memset(expected, 0x11, sizeof expected);
        memset(expected, round, desc->item_size);
        for (size_t i = 0; i < desc->capacity; i++) {
            memset(item, 0x11, sizeof item);
            ck_assert_status(mtask_queue_get(&queue, item, MTASK_NOWAIT), MTASK_OK);
            ck_assert_mem_eq(item, expected, sizeof item);
        }
        ck_assert_status(mtask_queue_get(&queue, item, MTASK_NOWAIT), MTASK_EMPTY);
    }
    ck_assert_status(mtask_queue_deinit(&queue), MTASK_OK);
    for (size_t i = 0; i < MTASK_QUEUE_ALIGN; i++)
        ck_assert_uint_eq(end[i], 0x5a);
}

START_TEST(items_of_every_size_stay_within_the_storage) {
    world *all = (world *)share(sizeof *all);
    for (int i = 0; i < 3 * KINDS; i++)
        for (size_t size = 1; size <= 16; size++) {
            static const size_t capacities[3] = {1, 3, 10};
            mtask_queue_desc desc = describe(all, kinds[i % KINDS], capacities[i / KINDS]);
            desc.item_size = size;
            desc.compare = desc.kind == MTASK_PRIORITY ? by_first_byte : NULL;
            desc.storage_size = mtask_queue_storage_size(&desc);
            ck_assert_uint_gt(desc.storage_size, desc.capacity * size);
            ck_assert_uint_le(desc.storage_size, MTASK_QUEUE_STORAGE_SIZE(desc.capacity, size));
            use_exact_storage(&desc, 3);
        }
}
END_TEST

START_TEST(a_queue_is_made_anew_where_another_was) {
    mtask_queue queue;
    world *all = make_world(&queue, MTASK_LIFO, 2);
    fill(&queue, 2);
    ck_assert_status(mtask_queue_close(&queue), MTASK_OK);
    ck_assert_status(mtask_queue_deinit(&queue), MTASK_OK);
    for (int i = 0; i < KINDS; i++) {
        mtask_queue_desc desc = describe(all, kinds[i], 5);
        ck_assert_status(mtask_queue_init(&queue, &desc), MTASK_OK);
        ck_assert(mtask_queue_is_empty(&queue) && !mtask_queue_is_closed(&queue));
        ck_assert_uint_eq(mtask_queue_unfinished(&queue), 0);
        fill(&queue, 5);
        ck_assert(mtask_queue_is_full(&queue));
        ck_assert_status(mtask_queue_deinit(&queue), MTASK_OK);
    }
    testing_check(munmap(all, sizeof *all) == 0);
}
END_TEST

/* ---- attaching ---- */

START_TEST(attach_finds_no_queue_where_none_has_been_made) {
    world *all = (world *)share(sizeof *all);
    mtask_queue queue;
    for (int i = 0; i < KINDS; i++) {
        mtask_queue_desc desc = describe(all, kinds[i], 3);
        ck_assert_status(mtask_queue_attach(&queue, &desc), MTASK_NOT_FOUND);
        desc.item_size = desc.capacity = 0;
        ck_assert_status(mtask_queue_attach(&queue, &desc), MTASK_NOT_FOUND);
    }
}
END_TEST

START_TEST(attach_refuses_what_is_no_shared_queue) {
    world *all = (world *)share(sizeof *all);
    mtask_queue_desc desc = describe(all, MTASK_FIFO, 3);
    mtask_queue queue, handle;
    memset(all->storage, 0xa5, sizeof all->storage); /* as another version may have left it */
    ck_assert_status(mtask_queue_attach(&handle, &desc), MTASK_INVALID);
    memset(all->storage, 0, sizeof all->storage);
    ck_assert_status(mtask_queue_init(&queue, &desc), MTASK_OK);
    all->storage[1] ^= 1; /* the version, which comes first, in any byte order */
    ck_assert_status(mtask_queue_attach(&handle, &desc), MTASK_INVALID);
    all->storage[1] ^= 1;
    ck_assert_status(mtask_queue_attach(&handle, &desc), MTASK_OK);
    desc.flags = MTASK_PRIVATE;
    ck_assert_status(mtask_queue_init(&queue, &desc), MTASK_OK);
    ck_assert_status(mtask_queue_put(&queue, &(parcel){0}, MTASK_NOWAIT), MTASK_OK);
    ck_assert_int_ne(mtask_queue_attach(&handle, &desc), MTASK_OK);
    ck_assert_status(mtask_queue_deinit(&queue), MTASK_OK);
    ck_assert_int_ne(mtask_queue_attach(&handle, &desc), MTASK_OK);
}
END_TEST

/* The desc of a handle, spoilt in one way. */
static mtask_queue_desc spoil(mtask_queue_desc desc, int way) {
    switch (way) {
    case 0:
        desc.item_size--;
        break;
    case 1:
        desc.item_size *= 2;
        break;
    case 2:
        desc.capacity--;
        break;
    case 3:
        desc.capacity = MTASK_UNBOUNDED;
        break;
    case 4:
        desc.storage_size = mtask_queue_storage_size(&desc) - 1;
        break;
    case 5:
        desc.storage_size = 0;
        break;
    case 6:
        desc.storage_size = 8; /* not even what tells the version */
        break;
    case 7:
        desc.storage = (unsigned char *)desc.storage + 8;
        break;
    default:
        desc.storage = NULL;
    }
    return desc;
}

START_TEST(attach_refuses_a_desc_that_does_not_fit) {
    for (int i = 0; i < KINDS; i++) {
        mtask_queue queue, handle;
        world *all = make_world(&queue, kinds[i], 3);
        mtask_queue_desc desc = describe(all, kinds[i], 3);
        put_parcel(&queue, 0, 1);
        for (int way = 0; way < 9; way++) {
            mtask_queue_desc bad = spoil(desc, way);
            mtask_status status = mtask_queue_attach(&handle, &bad);
            ck_assert_msg(status == MTASK_INVALID, "way %d: %s", way, mtask_status_name(status));
        }
        ck_assert_status(mtask_queue_attach(&handle, NULL), MTASK_INVALID);
        ck_assert_status(mtask_queue_attach(NULL, &desc), MTASK_INVALID);
        desc.compare = NULL;
        ck_assert_status(mtask_queue_attach(&handle, &desc),
                         kinds[i] == MTASK_PRIORITY ? MTASK_INVALID : MTASK_OK);
        get_parcel(&queue, 1);
        unmake_world(all, &queue);
    }
}
END_TEST

START_TEST(attach_takes_what_is_there_where_the_desc_is_silent) {
    for (int i = 0; i < KINDS; i++) {
        mtask_queue queue, handle;
        world *all = make_world(&queue, kinds[i], 3);
        mtask_queue_desc desc = describe(all, kinds[i], 3);
        desc.kind = (mtask_queue_kind)77; /* not looked at */
        desc.flags = MTASK_PRIVATE;
        desc.item_size = desc.capacity = 0;
        desc.storage_size = mtask_queue_storage_size(&(mtask_queue_desc){
            .kind = kinds[i], .capacity = 3, .item_size = sizeof(parcel), .compare = desc.compare});
        ck_assert_status(mtask_queue_attach(&handle, &desc), MTASK_OK);
        fill(&handle, 3);
        ck_assert(mtask_queue_is_full(&queue) && mtask_queue_is_full(&handle));
        get_parcel(&queue, kinds[i] == MTASK_LIFO ? 2 : 0);
        ck_assert_uint_eq(mtask_queue_size(&handle), 2);
        unmake_world(all, &queue);
    }
}
END_TEST

START_TEST(typed_handles_attach_too) {
    world *all = (world *)share(sizeof *all);
    mtask_queue_desc desc = describe(all, MTASK_FIFO, 3);
    parcels maker, user;
    parcel item;
    desc.item_size = 0; /* the typed functions know it */
    ck_assert_status(parcels_attach(&user, &desc), MTASK_NOT_FOUND);
    ck_assert_status(parcels_init_ex(&maker, &desc), MTASK_OK);
    ck_assert_status(parcels_attach(&user, &desc), MTASK_OK);
    ck_assert_status(parcels_put(&user, make_parcel(0, 0, 9), MTASK_NOWAIT), MTASK_OK);
    ck_assert_status(parcels_get(&maker, &item, MTASK_NOWAIT), MTASK_OK);
    ck_assert_uint_eq(item.serial, 9);
    ck_assert_status(parcels_deinit(&user), MTASK_OK);
    ck_assert_status(parcels_deinit(&maker), MTASK_OK);
}
END_TEST

/* What a fresh queue of each kind gives when it was given ranks 2, 1, 2 as 0, 1, 2. */
static const uint64_t out_order[KINDS][3] = {{0, 1, 2}, {2, 1, 0}, {1, 0, 2}};

START_TEST(a_queue_outlives_the_handle_that_made_it) {
    for (int i = 0; i < KINDS; i++) {
        mtask_queue maker, user;
        world *all = make_world(&maker, kinds[i], 3);
        for (uint32_t serial = 0; serial < 3; serial++)
            put_parcel(&maker, serial == 1 ? 1 : 2, serial);
        ck_assert_status(mtask_queue_deinit(&maker), MTASK_OK);
        for (int j = 0; j < 3; j++) { /* also an attached handle takes nothing with it */
            attach(&user, all);
            ck_assert_uint_eq(mtask_queue_size(&user), (size_t)(3 - j));
            get_parcel(&user, out_order[i][j]);
            ck_assert_status(mtask_queue_deinit(&user), MTASK_OK);
        }
        testing_check(munmap(all, sizeof *all) == 0);
    }
}
END_TEST

/* ---- different addresses ---- */

/* A world in memory that has a descriptor. */
static int open_memory(void) {
    int fd = memfd_create("mtask", 0); /* it stays open in a program that is executed */
    testing_check(fd >= 0);
    testing_check(ftruncate(fd, (off_t)sizeof(world)) == 0);
    return fd;
}

static world *map_world(int fd) {
    void *memory = mmap(NULL, sizeof(world), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    return memory == MAP_FAILED ? NULL : (world *)memory;
}

START_TEST(two_handles_at_different_addresses_are_one_queue) {
    int fd = open_memory();
    world *here = map_world(fd);
    world *there = map_world(fd);
    testing_check(here != NULL && there != NULL && here != there);
    for (int i = 0; i < KINDS; i++) {
        mtask_queue one, two;
        mtask_queue_desc desc = describe(here, kinds[i], 4);
        here->kind = kinds[i];
        here->capacity = 4;
        ck_assert_status(mtask_queue_init(&one, &desc), MTASK_OK);
        attach(&two, there);
        for (uint64_t round = 0; round < 50; round++) {
            for (uint32_t j = 0; j < 3; j++)
                put_parcel(j == 1 ? &two : &one, j == 1 ? 1 : 2, j + 10 * round);
            ck_assert_uint_eq(mtask_queue_size(&one), 3);
            ck_assert_uint_eq(mtask_queue_size(&two), 3);
            for (int j = 0; j < 3; j++)
                get_parcel(j == 1 ? &one : &two, out_order[i][j] + 10 * round);
            ck_assert(mtask_queue_is_empty(&one) && mtask_queue_is_empty(&two));
        }
        ck_assert_status(mtask_queue_deinit(&two), MTASK_OK);
        ck_assert_status(mtask_queue_deinit(&one), MTASK_OK);
    }
}
END_TEST

START_TEST(each_handle_compares_with_its_own_function) {
    int fd = open_memory();
    world *here = map_world(fd);
    world *there = map_world(fd);
    mtask_queue_desc desc = describe(here, MTASK_PRIORITY, 8);
    mtask_queue one, two;
    int calls[2] = {0, 0};
    testing_check(here != NULL && there != NULL);
    desc.compare_ctx = &calls[0];
    ck_assert_status(mtask_queue_init(&one, &desc), MTASK_OK);
    desc.storage = there->storage;
    desc.compare = by_rank_too;
    desc.compare_ctx = &calls[1];
    ck_assert_status(mtask_queue_attach(&two, &desc), MTASK_OK);
    for (uint32_t i = 0; i < 8; i++)
        put_parcel(&one, 8 - i, i);
    ck_assert_int_gt(calls[0], 0);
    ck_assert_int_eq(calls[1], 0);
    calls[0] = 0;
    for (uint32_t i = 0; i < 8; i++)
        get_parcel(&two, 7 - i);
    ck_assert_int_gt(calls[1], 0);
    ck_assert_int_eq(calls[0], 0);
}
END_TEST

/* ---- this program, executed anew ----

   It reports by its exit code: 0, or 1 and the line of the first check that failed. Check's own
   assertions belong to tests. */

#define STRANGER_CHECK(condition)                                                                  \
 do {                                                                                              \
  if (!(condition))                                                                                \
   return __LINE__;                                                                                \
 } while (0)

static mtask_queue_desc describe_other(world *all) {
    mtask_queue_desc desc = describe(all, MTASK_FIFO, 2);
    desc.storage = all->other;
    desc.storage_size = sizeof all->other;
    return desc;
}

/* Sends back what comes, with the serial plus 1000, until the queue is closed. */
static int echo(mtask_queue *requests, mtask_queue *replies) {
    mtask_status status;
    parcel item;
    while ((status = mtask_queue_get(requests, &item, MTASK_FOREVER)) == MTASK_OK) {
        STRANGER_CHECK(is_whole(&item));
        item = make_parcel(1, item.rank, item.serial + 1000);
        STRANGER_CHECK(mtask_queue_put(replies, &item, MTASK_FOREVER) == MTASK_OK);
        STRANGER_CHECK(mtask_queue_task_done(requests) == MTASK_OK);
    }
    STRANGER_CHECK(status == MTASK_CLOSED);
    STRANGER_CHECK(mtask_queue_close(replies) == MTASK_OK);
    return 0;
}

/* Maps the world elsewhere than at `taken`, attaches to both queues and serves. */
static int be_a_stranger(int fd, const void *taken, bool priority) {
    world *all = map_world(fd);
    mtask_queue requests, replies;
    mtask_queue_desc desc;
    if (all == taken)
        all = map_world(fd);
    STRANGER_CHECK(all != NULL && all != taken);
    desc = describe(all, MTASK_FIFO, 0);
    desc.item_size = 0;
    desc.compare = priority ? by_rank_too : NULL;
    STRANGER_CHECK(mtask_queue_attach(&requests, &desc) == MTASK_OK);
    desc = describe_other(all);
    STRANGER_CHECK(mtask_queue_attach(&replies, &desc) == MTASK_OK);
    STRANGER_CHECK(echo(&requests, &replies) == 0);
    STRANGER_CHECK(mtask_queue_deinit(&requests) == MTASK_OK);
    STRANGER_CHECK(mtask_queue_deinit(&replies) == MTASK_OK);
    return 0;
}

static int stranger_main(char **argv) {
    const void *taken = (const void *)(uintptr_t)strtoull(argv[2], NULL, 16);
    int line = be_a_stranger(atoi(argv[1]), taken, strcmp(argv[3], "priority") == 0);
    if (line != 0)
        dprintf(2, "%s:%d: failed in another program\n", __FILE__, line);
    return line != 0;
}

static pid_t execute_stranger(int fd, const world *all, mtask_queue_kind kind) {
    char number[16], address[32];
    pid_t pid;
    snprintf(number, sizeof number, "%d", fd);
    snprintf(address, sizeof address, "%llx", (unsigned long long)(uintptr_t)all);
    pid = fork();
    testing_check(pid >= 0);
    if (pid == 0) {
        execl("/proc/self/exe", "stranger", number, address,
              kind == MTASK_PRIORITY ? "priority" : "other", (char *)NULL);
        _exit(127);
    }
    return pid;
}

/* Sends `count` requests, never more than fit into both queues, and checks the replies. */
static void talk(mtask_queue *requests, mtask_queue *replies, uint64_t count) {
    uint64_t got = 0;
    for (uint64_t i = 0; i < count; i++) {
        put_parcel(requests, (uint32_t)i, i);
        if (i >= 2)
            get_parcel(replies, 1000 + got++);
        if (i % 16 == 0) /* so that it falls asleep now and then */
            testing_pause(1);
    }
    ck_assert_status(mtask_queue_close(requests), MTASK_OK);
    while (got < count)
        get_parcel(replies, 1000 + got++);
    ck_assert_status(mtask_queue_get(replies, &(parcel){0}, MTASK_FOREVER), MTASK_CLOSED);
    ck_assert_status(mtask_queue_join(requests, MTASK_FOREVER), MTASK_OK);
}

/* With a LIFO of requests, the order would be no one's to predict. */
static void talk_to_a_stranger(mtask_queue_kind kind) {
    int fd = open_memory();
    world *all = map_world(fd);
    mtask_queue requests, replies;
    mtask_queue_desc desc;
    pid_t pid;
    testing_check(all != NULL);
    desc = describe(all, kind, 3);
    ck_assert_status(mtask_queue_init(&requests, &desc), MTASK_OK);
    desc = describe_other(all);
    ck_assert_status(mtask_queue_init(&replies, &desc), MTASK_OK);
    pid = execute_stranger(fd, all, kind);
    talk(&requests, &replies, 400);
    reap(pid);
    ck_assert_uint_eq(mtask_queue_unfinished(&requests), 0);
    ck_assert_uint_eq(mtask_queue_unfinished(&replies), 400);
    testing_check(close(fd) == 0 && munmap(all, sizeof *all) == 0);
}

START_TEST(another_program_serves_a_fifo_queue) {
    talk_to_a_stranger(MTASK_FIFO);
}
END_TEST

START_TEST(another_program_serves_a_priority_queue) {
    talk_to_a_stranger(MTASK_PRIORITY);
}
END_TEST

START_TEST(another_program_drains_a_closed_lifo_queue) {
    int fd = open_memory();
    world *all = map_world(fd);
    mtask_queue requests, replies;
    mtask_queue_desc desc;
    pid_t pid;
    testing_check(all != NULL);
    desc = describe(all, MTASK_LIFO, 9);
    ck_assert_status(mtask_queue_init(&requests, &desc), MTASK_OK);
    desc = describe_other(all);
    ck_assert_status(mtask_queue_init(&replies, &desc), MTASK_OK);
    fill(&requests, 9);
    ck_assert_status(mtask_queue_close(&requests), MTASK_OK);
    pid = execute_stranger(fd, all, MTASK_LIFO);
    for (uint64_t i = 9; i > 0; i--)
        get_parcel(&replies, 1000 + i - 1);
    ck_assert_status(mtask_queue_get(&replies, &(parcel){0}, MTASK_FOREVER), MTASK_CLOSED);
    reap(pid);
}
END_TEST

/* ---- waiting ---- */

static void get_one(world *all, int index) {
    mtask_queue queue;
    attach(&queue, all);
    get_parcel(&queue, (uint64_t)index);
}

static void put_one(world *all, int index) {
    mtask_queue queue;
    attach(&queue, all);
    put_parcel(&queue, 0, (uint64_t)index);
}

START_TEST(a_put_wakes_the_process_that_waits_for_an_item) {
    for (int i = 0; i < KINDS; i++) {
        mtask_queue queue;
        world *all = make_world(&queue, kinds[i], 2);
        for (int round = 0; round < 3; round++) {
            pid_t pid = spawn_waiter(get_one, all, round);
            put_parcel(&queue, 0, (uint64_t)round);
            reap(pid);
            ck_assert(mtask_queue_is_empty(&queue));
        }
        unmake_world(all, &queue);
    }
}
END_TEST

START_TEST(a_get_wakes_the_process_that_waits_for_room) {
    for (int i = 0; i < KINDS; i++) {
        mtask_queue queue;
        world *all = make_world(&queue, kinds[i], 1);
        put_parcel(&queue, 0, 0);
        for (int round = 0; round < 3; round++) {
            pid_t pid = spawn_waiter(put_one, all, round + 1);
            get_parcel(&queue, (uint64_t)round);
            reap(pid);
            ck_assert(mtask_queue_is_full(&queue));
        }
        unmake_world(all, &queue);
    }
}
END_TEST

/* A child may also use the handle that it was born with. */
static mtask_queue *inherited;

static void get_one_by_the_inherited_handle(world *all, int index) {
    (void)all;
    get_parcel(inherited, (uint64_t)index);
}

START_TEST(a_forked_child_uses_the_handle_of_its_parent) {
    mtask_queue queue;
    world *all = make_world(&queue, MTASK_FIFO, 2);
    pid_t pid;
    inherited = &queue;
    pid = spawn_waiter(get_one_by_the_inherited_handle, all, 5);
    put_parcel(&queue, 0, 5);
    reap(pid);
    unmake_world(all, &queue);
}
END_TEST

START_TEST(one_batch_wakes_all_processes_that_wait) {
    mtask_queue queue;
    world *all = make_world(&queue, MTASK_FIFO, 3);
    parcel items[3];
    pid_t pids[3];
    for (int i = 0; i < 3; i++) {
        pids[i] = spawn_waiter(get_one, all, 4);
        items[i] = make_parcel(0, 0, 4);
    }
    ck_assert_status(mtask_queue_put_many(&queue, items, 3, NULL, MTASK_NOWAIT), MTASK_OK);
    for (int i = 0; i < 3; i++)
        reap(pids[i]);
    unmake_world(all, &queue);
}
END_TEST

/* How often a sleeping process went to sleep so far. */
static long times_slept(pid_t pid) {
    long times = -1;
    while (times < 0) { /* just awake */
        testing_await_process_asleep(pid);
        times = testing_slept(pid, pid);
    }
    return times;
}

START_TEST(a_waiting_process_looks_again_no_more_than_ten_times_a_second) {
    mtask_queue queue;
    world *all = make_world(&queue, MTASK_FIFO, 1);
    pid_t pid = spawn_waiter(get_one, all, 3);
    int64_t start = mtask_now();
    long times = times_slept(pid);
    testing_pause(250);
    times = times_slept(pid) - times;
    ck_assert_int_le(times, 4 + (mtask_now() - start) / MTASK_MS(100));
    put_parcel(&queue, 0, 3);
    reap(pid);
}
END_TEST

/* Each call that can wait, on a queue where it cannot succeed; `full` or empty. */
static void time_out_once(mtask_queue *queue, bool full, int64_t timeout) {
    parcel items[2] = {make_parcel(0, 0, 1), make_parcel(0, 0, 2)};
    size_t moved = 9;
    int64_t start = mtask_now();
    if (full) {
        ck_assert_status(mtask_queue_put(queue, items, timeout), MTASK_FULL);
        ck_assert_int_ge(mtask_now() - start, timeout);
        start = mtask_now();
        ck_assert_status(mtask_queue_put_many(queue, items, 2, &moved, timeout), MTASK_FULL);
    } else {
        ck_assert_status(mtask_queue_get(queue, items, timeout), MTASK_EMPTY);
        ck_assert_int_ge(mtask_now() - start, timeout);
        start = mtask_now();
        ck_assert_status(mtask_queue_get_many(queue, items, 2, &moved, timeout), MTASK_EMPTY);
    }
    ck_assert_int_ge(mtask_now() - start, timeout);
    ck_assert_uint_eq(moved, 0);
}

static void time_out(world *all, int index) {
    mtask_queue queue;
    attach(&queue, all);
    time_out_once(&queue, index, MTASK_NOWAIT);
    time_out_once(&queue, index, MTASK_MS(3));
    time_out_once(&queue, index, MTASK_MS(110)); /* sleepers look again after 100 */
}

START_TEST(waits_end_when_their_time_is_up) {
    for (int i = 0; i < KINDS; i++) {
        mtask_queue queue;
        world *all = make_world(&queue, kinds[i], 2);
        pid_t pid = spawn(time_out, all, 0);
        time_out(all, 0);
        reap(pid);
        fill(&queue, 2);
        pid = spawn(time_out, all, 1);
        time_out(all, 1);
        reap(pid);
        ck_assert_uint_eq(mtask_queue_size(&queue), 2);
        get_parcel(&queue, kinds[i] == MTASK_LIFO ? 1 : 0);
        unmake_world(all, &queue);
    }
}
END_TEST

/* ---- closing ---- */

static void get_until_closed(world *all, int index) {
    mtask_queue queue;
    mtask_status status;
    parcel item;
    int got = 0;
    attach(&queue, all);
    while ((status = mtask_queue_get(&queue, &item, MTASK_FOREVER)) == MTASK_OK)
        got++;
    ck_assert_status(status, MTASK_CLOSED);
    ck_assert(mtask_queue_is_closed(&queue));
    ck_assert_int_eq(got, index);
}

static void put_and_find_it_closed(world *all, int index) {
    mtask_queue queue;
    parcel items[2] = {make_parcel(0, 0, 1), make_parcel(0, 0, 2)};
    size_t moved = 9;
    attach(&queue, all);
    if (index == 0)
        ck_assert_status(mtask_queue_put(&queue, items, MTASK_FOREVER), MTASK_CLOSED);
    else
        ck_assert_status(mtask_queue_put_many(&queue, items, 2, &moved, MTASK_FOREVER),
                         MTASK_CLOSED);
    ck_assert_uint_eq(moved, index == 0 ? 9 : 0);
}

START_TEST(close_wakes_all_processes_that_wait_for_items) {
    for (int i = 0; i < KINDS; i++) {
        mtask_queue queue;
        world *all = make_world(&queue, kinds[i], 2);
        pid_t first = spawn_waiter(get_until_closed, all, 0);
        pid_t second = spawn_waiter(get_until_closed, all, 0);
        ck_assert_status(mtask_queue_close(&queue), MTASK_OK);
        reap(first);
        reap(second);
        unmake_world(all, &queue);
    }
}
END_TEST

START_TEST(close_wakes_all_processes_that_wait_for_room) {
    for (int i = 0; i < KINDS; i++) {
        mtask_queue queue;
        world *all = make_world(&queue, kinds[i], 2);
        pid_t first, second;
        fill(&queue, 2);
        first = spawn_waiter(put_and_find_it_closed, all, 0);
        second = spawn_waiter(put_and_find_it_closed, all, 1);
        ck_assert_status(mtask_queue_close(&queue), MTASK_OK);
        reap(first);
        reap(second);
        reap(spawn(get_until_closed, all, 2)); /* what was in it is still there */
        unmake_world(all, &queue);
    }
}
END_TEST

static void close_it(world *all, int index) {
    mtask_queue queue;
    (void)index;
    attach(&queue, all);
    ck_assert_status(mtask_queue_close(&queue), MTASK_OK);
}

START_TEST(a_queue_that_another_process_closed_is_closed_and_drains) {
    mtask_queue queue, late;
    world *all = make_world(&queue, MTASK_FIFO, 4);
    fill(&queue, 2);
    reap(spawn(close_it, all, 0));
    ck_assert(mtask_queue_is_closed(&queue));
    ck_assert_status(mtask_queue_close(&queue), MTASK_OK);
    ck_assert_status(mtask_queue_put(&queue, &(parcel){0}, MTASK_FOREVER), MTASK_CLOSED);
    attach(&late, all); /* also whoever comes later */
    ck_assert(mtask_queue_is_closed(&late));
    get_parcel(&late, 0);
    get_parcel(&queue, 1);
    ck_assert_status(mtask_queue_get(&late, &(parcel){0}, MTASK_FOREVER), MTASK_CLOSED);
    ck_assert_status(mtask_queue_peek(&queue, &(parcel){0}), MTASK_CLOSED);
}
END_TEST

/* ---- join ---- */

static void join_it(world *all, int index) {
    mtask_queue queue;
    attach(&queue, all);
    ck_assert_status(mtask_queue_join(&queue, MTASK_FOREVER), MTASK_OK);
    ck_assert_uint_eq(mtask_queue_unfinished(&queue), 0);
    ck_assert_uint_eq(mtask_queue_size(&queue), (size_t)index);
}

static void work(world *all, int index) {
    mtask_queue queue;
    attach(&queue, all);
    for (int i = 0; i < index; i++) {
        parcel item;
        ck_assert_status(mtask_queue_get(&queue, &item, MTASK_FOREVER), MTASK_OK);
        ck_assert_status(mtask_queue_task_done(&queue), MTASK_OK);
    }
}

static bool has_ended(pid_t pid) {
    siginfo_t info;
    info.si_pid = 0;
    testing_check(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0);
    return info.si_pid == pid;
}

START_TEST(join_waits_for_the_work_of_other_processes) {
    for (int i = 0; i < KINDS; i++) {
        mtask_queue queue;
        world *all = make_world(&queue, kinds[i], 4);
        int64_t start = mtask_now();
        pid_t first, second;
        fill(&queue, 4);
        ck_assert_uint_eq(mtask_queue_unfinished(&queue), 4);
        ck_assert_status(mtask_queue_join(&queue, MTASK_MS(110)), MTASK_TIMEOUT);
        ck_assert_int_ge(mtask_now() - start, MTASK_MS(110));
        first = spawn_waiter(join_it, all, 0);
        second = spawn_waiter(join_it, all, 0);
        reap(spawn(work, all, 3));
        ck_assert_uint_eq(mtask_queue_unfinished(&queue), 1);
        ck_assert_status(mtask_queue_join(&queue, MTASK_NOWAIT), MTASK_TIMEOUT);
        ck_assert(!has_ended(first) && !has_ended(second));
        reap(spawn(work, all, 1));
        reap(first);
        reap(second);
        ck_assert_status(mtask_queue_join(&queue, MTASK_NOWAIT), MTASK_OK);
        ck_assert_status(mtask_queue_task_done(&queue), MTASK_OVERFLOW);
        unmake_world(all, &queue);
    }
}
END_TEST

static void discard_all(world *all, int index) {
    mtask_queue queue;
    size_t discarded = 0;
    attach(&queue, all);
    ck_assert_status(mtask_queue_discard(&queue, NULL, NULL, &discarded), MTASK_OK);
    ck_assert_uint_eq(discarded, (size_t)index);
}

START_TEST(discard_credits_those_who_join_elsewhere) {
    for (int i = 0; i < KINDS; i++) {
        mtask_queue queue;
        world *all = make_world(&queue, kinds[i], 4);
        pid_t pid;
        fill(&queue, 3);
        pid = spawn_waiter(join_it, all, 0);
        reap(spawn(discard_all, all, 3));
        reap(pid);
        ck_assert_uint_eq(mtask_queue_unfinished(&queue), 0);
        fill(&queue, 4); /* and there is room for all */
        unmake_world(all, &queue);
    }
}
END_TEST

static void note_serial(void *item, void *ctx) {
    uint64_t *digits = (uint64_t *)ctx;
    *digits = *digits * 10 + ((const parcel *)item)->serial;
}

START_TEST(discard_shows_items_in_the_order_in_which_they_would_come_out) {
    static const uint64_t expected[KINDS] = {12, 210, 102}; /* out_order, as digits */
    for (int i = 0; i < KINDS; i++) {
        mtask_queue queue, user;
        world *all = make_world(&queue, kinds[i], 3);
        uint64_t digits = 0;
        for (uint32_t serial = 0; serial < 3; serial++)
            put_parcel(&queue, serial == 1 ? 1 : 2, serial);
        attach(&user, all);
        ck_assert_status(mtask_queue_discard(&user, note_serial, &digits, NULL), MTASK_OK);
        ck_assert_uint_eq(digits, expected[i]);
        ck_assert(mtask_queue_is_empty(&queue));
        unmake_world(all, &queue);
    }
}
END_TEST

/* ---- batches ---- */

static void put_a_batch(world *all, int index) {
    mtask_queue queue;
    parcel items[50];
    size_t moved = 99;
    attach(&queue, all);
    for (int i = 0; i < index; i++)
        items[i] = make_parcel(0, 0, (uint64_t)i);
    ck_assert_status(mtask_queue_put_many(&queue, items, (size_t)index, &moved, MTASK_FOREVER),
                     MTASK_OK);
    ck_assert_uint_eq(moved, (size_t)index);
}

/* A batch larger than the queue comes through bit by bit, in order unless it is a stack. */
START_TEST(batches_pass_between_processes) {
    for (int i = 0; i < KINDS; i++) {
        mtask_queue queue;
        world *all = make_world(&queue, kinds[i], 3);
        pid_t pid = spawn(put_a_batch, all, 50);
        uint64_t seen = 0;
        for (size_t got = 0, moved = 0; got < 50; got += moved) {
            parcel items[BATCH];
            ck_assert_status(mtask_queue_get_many(&queue, items, BATCH, &moved, MTASK_FOREVER),
                             MTASK_OK);
            ck_assert(moved >= 1 && moved <= 3);
            for (size_t j = 0; j < moved; j++) {
                ck_assert(is_whole(&items[j]));
                ck_assert(kinds[i] == MTASK_LIFO || items[j].serial == got + j);
                ck_assert((seen >> items[j].serial & 1) == 0);
                seen |= UINT64_C(1) << items[j].serial;
            }
        }
        reap(pid);
        ck_assert_uint_eq(seen, (UINT64_C(1) << 50) - 1);
        unmake_world(all, &queue);
    }
}
END_TEST

START_TEST(a_batch_that_does_not_fit_says_how_much_of_it_did) {
    for (int i = 0; i < KINDS; i++) {
        mtask_queue queue, user;
        world *all = make_world(&queue, kinds[i], 3);
        parcel items[5];
        size_t moved = 9;
        attach(&user, all);
        for (uint64_t j = 0; j < 5; j++)
            items[j] = make_parcel(0, 0, j);
        ck_assert_status(mtask_queue_put_many(&user, items, 5, &moved, MTASK_MS(2)), MTASK_FULL);
        ck_assert_uint_eq(moved, 3);
        ck_assert_status(mtask_queue_get_many(&queue, items, 5, &moved, MTASK_NOWAIT), MTASK_OK);
        ck_assert_uint_eq(moved, 3);
        for (uint64_t j = 0; j < 3; j++)
            ck_assert_uint_eq(items[j].serial, kinds[i] == MTASK_LIFO ? 2 - j : j);
        unmake_world(all, &queue);
    }
}
END_TEST

/* ---- looking ---- */

static void look(world *all, int index) {
    mtask_queue queue;
    parcel item;
    attach(&queue, all);
    ck_assert_uint_eq(mtask_queue_size(&queue), (size_t)index);
    ck_assert(mtask_queue_is_empty(&queue) == (index == 0));
    ck_assert(mtask_queue_is_full(&queue) == (index == 3));
    ck_assert_uint_eq(mtask_queue_unfinished(&queue), (size_t)index);
    if (index == 0) {
        ck_assert_status(mtask_queue_peek(&queue, &item), MTASK_EMPTY);
        return;
    }
    for (int i = 0; i < 2; i++) { /* it stays there */
        ck_assert_status(mtask_queue_peek(&queue, &item), MTASK_OK);
        ck_assert(is_whole(&item));
        ck_assert_uint_eq(item.serial, all->kind == MTASK_LIFO ? (uint64_t)index - 1 : 0);
    }
}

START_TEST(another_process_sees_what_is_in_it) {
    for (int i = 0; i < KINDS; i++) {
        mtask_queue queue;
        world *all = make_world(&queue, kinds[i], 3);
        for (int size = 0; size <= 3; size++) {
            if (size > 0)
                put_parcel(&queue, 0, (uint64_t)size - 1);
            reap(spawn(look, all, size));
        }
        unmake_world(all, &queue);
    }
}
END_TEST

START_TEST(a_shared_queue_has_no_descriptor) {
    for (int i = 0; i < KINDS; i++) {
        mtask_queue queue, user;
        world *all = make_world(&queue, kinds[i], 3);
        int fd = -7;
        attach(&user, all);
        ck_assert_status(mtask_queue_pollfd(&queue, &fd), MTASK_UNSUPPORTED);
        ck_assert_status(mtask_queue_pollfd(&user, &fd), MTASK_UNSUPPORTED);
        unmake_world(all, &queue);
    }
}
END_TEST

/* ---- select ---- */

static mtask_queue_case make_case(mtask_queue *queue, mtask_queue_op op, parcel *item) {
    mtask_queue_case made;
    memset(&made, 0, sizeof made);
    made.queue = queue;
    made.op = op;
    made.item = item;
    return made;
}

/* Waits for an item, or until closed, by select; index: what is to come. */
static void select_get(world *all, int index) {
    mtask_queue queue;
    parcel item;
    size_t fired = 9;
    mtask_queue_case one;
    attach(&queue, all);
    one = make_case(&queue, MTASK_GET, &item);
    ck_assert_status(mtask_queue_select(&one, 1, &fired, MTASK_FOREVER),
                     index < 0 ? MTASK_CLOSED : MTASK_OK);
    ck_assert_uint_eq(fired, 0);
    ck_assert(index < 0 || (is_whole(&item) && item.serial == (uint64_t)index));
}

static void select_put(world *all, int index) {
    mtask_queue queue;
    parcel item = make_parcel(0, 0, (uint64_t)index);
    size_t fired = 9;
    mtask_queue_case one;
    attach(&queue, all);
    one = make_case(&queue, MTASK_PUT, &item);
    ck_assert_status(mtask_queue_select(&one, 1, &fired, MTASK_FOREVER), MTASK_OK);
    ck_assert_uint_eq(fired, 0);
}

START_TEST(select_waits_for_what_another_process_puts_takes_or_closes) {
    for (int i = 0; i < KINDS; i++) {
        mtask_queue queue;
        world *all = make_world(&queue, kinds[i], 1);
        pid_t pid = spawn_waiter(select_get, all, 7);
        put_parcel(&queue, 0, 7);
        reap(pid);
        ck_assert(mtask_queue_is_empty(&queue));
        put_parcel(&queue, 0, 1);
        pid = spawn_waiter(select_put, all, 2);
        get_parcel(&queue, 1);
        reap(pid);
        get_parcel(&queue, 2);
        pid = spawn_waiter(select_get, all, -1);
        ck_assert_status(mtask_queue_close(&queue), MTASK_OK);
        reap(pid);
        unmake_world(all, &queue);
    }
}
END_TEST

static void put_into_the_other(world *all, int index) {
    mtask_queue queue;
    mtask_queue_desc desc = describe_other(all);
    ck_assert_status(mtask_queue_attach(&queue, &desc), MTASK_OK);
    testing_pause(3); /* so that the select waits */
    put_parcel(&queue, 0, (uint64_t)index);
}

/* A full queue, an empty one and a private one, of which nothing is ready at first. */
START_TEST(select_chooses_among_shared_and_private_queues) {
    mtask_queue full, empty, private_one;
    world *all = make_world(&full, MTASK_FIFO, 1);
    mtask_queue_desc desc = describe_other(all);
    parcel put = make_parcel(0, 0, 50), got, never;
    mtask_queue_case cases[3];
    size_t fired = 9;
    int64_t start = mtask_now();
    pid_t pid;
    ck_assert_status(mtask_queue_init(&empty, &desc), MTASK_OK);
    memset(&desc, 0, sizeof desc);
    desc.capacity = 1;
    desc.item_size = sizeof(parcel);
    ck_assert_status(mtask_queue_init(&private_one, &desc), MTASK_OK);
    fill(&full, 1);
    cases[0] = make_case(&full, MTASK_PUT, &put);
    cases[1] = make_case(&empty, MTASK_GET, &got);
    cases[2] = make_case(&private_one, MTASK_GET, &never);
    ck_assert_status(mtask_queue_select(cases, 3, &fired, MTASK_MS(30)), MTASK_TIMEOUT);
    ck_assert_int_ge(mtask_now() - start, MTASK_MS(30));
    ck_assert_uint_eq(fired, 3);
    pid = spawn(put_into_the_other, all, 8);
    ck_assert_status(mtask_queue_select(cases, 3, &fired, MTASK_FOREVER), MTASK_OK);
    ck_assert_uint_eq(fired, 1);
    ck_assert_uint_eq(got.serial, 8);
    reap(pid);
    pid = spawn(get_one, all, 0);
    ck_assert_status(mtask_queue_select(cases, 3, &fired, MTASK_FOREVER), MTASK_OK);
    ck_assert_uint_eq(fired, 0);
    reap(pid);
    get_parcel(&full, 50);
    ck_assert(mtask_queue_is_empty(&empty) && mtask_queue_is_empty(&private_one));
    ck_assert_status(mtask_queue_deinit(&private_one), MTASK_OK);
}
END_TEST

/* ---- stress ---- */

/* What one consumer expects next of each producer and rank: serials grow. */
typedef struct expectation {
    uint64_t next[CROWD][RANKS];
} expectation;

static int64_t random_timeout(testing_random *random) {
    uint64_t kind = testing_below(random, 8);
    if (kind == 0)
        return MTASK_NOWAIT;
    return kind < 4 ? MTASK_FOREVER : (int64_t)testing_below(random, kind < 6 ? 5000 : 300000);
}

/* Puts a few items or one, from `serial` on; how many were put. */
static size_t put_some(mtask_queue *queue, int producer, uint64_t serial, testing_random *random,
                       mtask_status *status) {
    parcel items[BATCH];
    size_t count = testing_below(random, 3) == 0 ? 1 + testing_below(random, BATCH) : 1;
    size_t moved = 0;
    int64_t timeout = random_timeout(random);
    if (count > SERIALS - serial)
        count = SERIALS - serial;
    for (size_t i = 0; i < count; i++)
        items[i] = make_parcel(producer, (uint32_t)testing_below(random, RANKS), serial + i);
    if (count == 1) {
        *status = mtask_queue_put(queue, items, timeout);
        return *status == MTASK_OK;
    }
    *status = mtask_queue_put_many(queue, items, count, &moved, timeout);
    testing_check((*status == MTASK_OK) == (moved == count));
    return moved;
}

static void produce(world *all, int index) {
    testing_random random = testing_random_make(all->seed, (unsigned)index);
    mtask_status status = MTASK_OK;
    mtask_queue queue;
    uint64_t serial = 0;
    attach(&queue, all);
    while (serial < SERIALS && status != MTASK_CLOSED && (serial == 0 || mtask_now() < all->end)) {
        serial += put_some(&queue, index, serial, &random, &status);
        testing_check(status == MTASK_OK || status == MTASK_FULL || status == MTASK_CLOSED);
        __atomic_store_n(&all->put[index], serial, __ATOMIC_RELEASE);
    }
}

/* Each item once, whole, and in the order of its producer (of each rank; or none: a stack). */
static void note(world *all, const parcel *item, expectation *expected) {
    uint64_t *next;
    testing_check(is_whole(item));
    testing_check(item->producer < (uint32_t)all->producers && item->serial < SERIALS);
    testing_check(
        __atomic_exchange_n(&all->seen[item->producer][item->serial], 1, __ATOMIC_RELAXED) == 0);
    if (all->kind == MTASK_LIFO)
        return;
    next = &expected->next[item->producer][all->kind == MTASK_PRIORITY ? item->rank : 0];
    testing_check(item->serial >= *next);
    *next = item->serial + 1;
}

static void consume(world *all, int index) {
    testing_random random = testing_random_make(all->seed, (unsigned)(CROWD + index));
    mtask_status status = MTASK_OK;
    mtask_queue queue;
    expectation expected;
    memset(&expected, 0, sizeof expected);
    attach(&queue, all);
    while (status != MTASK_CLOSED) {
        parcel items[BATCH];
        size_t moved = 0;
        int64_t timeout = random_timeout(&random);
        if (testing_below(&random, 3) == 0)
            status = mtask_queue_get_many(&queue, items, BATCH, &moved, timeout);
        else if ((status = mtask_queue_get(&queue, items, timeout)) == MTASK_OK)
            moved = 1;
        testing_check((status == MTASK_OK) == (moved > 0));
        testing_check(status == MTASK_OK || status == MTASK_EMPTY || status == MTASK_CLOSED);
        for (size_t i = 0; i < moved; i++) {
            note(all, &items[i], &expected);
            ck_assert_status(mtask_queue_task_done(&queue), MTASK_OK);
        }
    }
}

/* What was put was seen, and nothing else. */
static void check_seen(const world *all) {
    for (int i = 0; i < all->producers; i++) {
        ck_assert(all->put[i] > 0 || all->closed_early);
        for (uint64_t serial = 0; serial < SERIALS; serial++)
            if (all->seen[i][serial] != (serial < all->put[i]))
                ck_abort_msg("producer %d put %lu items, but number %lu was seen %d times", i,
                             (unsigned long)all->put[i], (unsigned long)serial,
                             all->seen[i][serial]);
    }
}

/* Joins; fails the test if a consumer, of `count`, has ended, which it should not yet. */
static void join_crowd(mtask_queue *queue, const pid_t *consumers, int count) {
    mtask_status status;
    while ((status = mtask_queue_join(queue, MTASK_MS(200))) == MTASK_TIMEOUT)
        for (int i = 0; i < count; i++)
            testing_check(!has_ended(consumers[i]));
    ck_assert_status(status, MTASK_OK);
    ck_assert_uint_eq(mtask_queue_unfinished(queue), 0);
}

/* Closes at a random moment, after something has been put. */
static void close_amid(world *all, mtask_queue *queue) {
    testing_random random = testing_random_make(all->seed, 2 * CROWD);
    while (__atomic_load_n(&all->put[0], __ATOMIC_ACQUIRE) == 0)
        sched_yield();
    ck_assert_status(mtask_sleep((int64_t)testing_below(&random, MTASK_MS(4))), MTASK_OK);
    ck_assert_status(mtask_queue_close(queue), MTASK_OK);
}

/* One crowd on one queue, which ends in one of three ways: join, then close; close when all has
   been put; close in the middle. */
static void run_crowd(world *all, int producers, int consumers, int ending) {
    pid_t makers[CROWD], users[CROWD];
    mtask_queue queue;
    mtask_queue_desc desc = describe(all, all->kind, all->capacity);
    ck_assert_status(mtask_queue_init(&queue, &desc), MTASK_OK);
    memset(all->seen, 0, sizeof all->seen);
    memset(all->put, 0, sizeof all->put);
    all->producers = producers;
    all->closed_early = ending == 2;
    all->end = mtask_now() + MTASK_MS(25);
    for (int i = 0; i < consumers; i++)
        users[i] = spawn(consume, all, i);
    for (int i = 0; i < producers; i++)
        makers[i] = spawn(produce, all, i);
    if (ending == 2)
        close_amid(all, &queue);
    for (int i = 0; i < producers; i++)
        reap(makers[i]);
    if (ending == 0)
        join_crowd(&queue, users, consumers);
    ck_assert_status(mtask_queue_close(&queue), MTASK_OK);
    for (int i = 0; i < consumers; i++)
        reap(users[i]);
    ck_assert_status(mtask_queue_join(&queue, MTASK_NOWAIT), MTASK_OK);
    ck_assert(mtask_queue_is_empty(&queue));
    check_seen(all);
    ck_assert_status(mtask_queue_deinit(&queue), MTASK_OK);
}

static void stress(mtask_queue_kind kind) {
    static const size_t capacities[] = {1, 2, 3, 64, CAPACITY_MAX};
    world *all = (world *)share(sizeof *all);
    int ending = 0;
    all->kind = kind;
    all->seed = testing_seed();
    for (size_t i = 0; i < sizeof capacities / sizeof capacities[0]; i++)
        for (int producers = 1; producers <= CROWD; producers *= 2)
            for (int consumers = 1; consumers <= CROWD; consumers *= 2) {
                all->capacity = capacities[i];
                all->seed++;
                run_crowd(all, producers, consumers, ending++ % 3);
            }
}

START_TEST(a_fifo_queue_loses_and_doubles_nothing_between_crowds_of_processes) {
    stress(MTASK_FIFO);
}
END_TEST

START_TEST(a_stack_loses_and_doubles_nothing_between_crowds_of_processes) {
    stress(MTASK_LIFO);
}
END_TEST

START_TEST(a_priority_queue_loses_and_doubles_nothing_between_crowds_of_processes) {
    stress(MTASK_PRIORITY);
}
END_TEST

int main(int argc, char **argv) {
    const TTest *const tests[] = {
        init_makes_a_shared_queue_or_says_that_it_is_unsupported,
        init_refuses_what_cannot_be_shared,
        init_refuses_storage_that_is_misaligned_or_too_small,
        items_of_every_size_stay_within_the_storage,
        a_queue_is_made_anew_where_another_was,
        attach_finds_no_queue_where_none_has_been_made,
        attach_refuses_what_is_no_shared_queue,
        attach_refuses_a_desc_that_does_not_fit,
        attach_takes_what_is_there_where_the_desc_is_silent,
        typed_handles_attach_too,
        a_queue_outlives_the_handle_that_made_it,
        two_handles_at_different_addresses_are_one_queue,
        each_handle_compares_with_its_own_function,
        another_program_serves_a_fifo_queue,
        another_program_serves_a_priority_queue,
        another_program_drains_a_closed_lifo_queue,
        a_put_wakes_the_process_that_waits_for_an_item,
        a_get_wakes_the_process_that_waits_for_room,
        a_forked_child_uses_the_handle_of_its_parent,
        one_batch_wakes_all_processes_that_wait,
        a_waiting_process_looks_again_no_more_than_ten_times_a_second,
        waits_end_when_their_time_is_up,
        close_wakes_all_processes_that_wait_for_items,
        close_wakes_all_processes_that_wait_for_room,
        a_queue_that_another_process_closed_is_closed_and_drains,
        join_waits_for_the_work_of_other_processes,
        discard_credits_those_who_join_elsewhere,
        discard_shows_items_in_the_order_in_which_they_would_come_out,
        batches_pass_between_processes,
        a_batch_that_does_not_fit_says_how_much_of_it_did,
        another_process_sees_what_is_in_it,
        a_shared_queue_has_no_descriptor,
        select_waits_for_what_another_process_puts_takes_or_closes,
        select_chooses_among_shared_and_private_queues,
        a_fifo_queue_loses_and_doubles_nothing_between_crowds_of_processes,
        a_stack_loses_and_doubles_nothing_between_crowds_of_processes,
        a_priority_queue_loses_and_doubles_nothing_between_crowds_of_processes};
    size_t count = CAN_SHARE ? sizeof tests / sizeof tests[0] : 1;
    if (argc == 4)
        return stranger_main(argv);
    return testing_main(testing_suite("queue_shared", tests, count));
}
