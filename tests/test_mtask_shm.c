/* test_mtask_shm.c - shared memory: blocks, their names, arrays with a lock, arenas of pieces

   The children here are forked past mtask_proc.h, before or after the memory was made that they shall
   see; they and the test take turns by letters through pipes. */
#include "testing_proc.h"

#include <limits.h>
#include <sys/ptrace.h>

#ifdef MTASK_FORCE_POSIX
enum { CAN_SHARE = 0 }; /* MTASK_SHARED */
#else
enum { CAN_SHARE = 1 };
#endif

#if TESTING_TSAN
/* The locks of arrays and arenas are robust pthread mutexes, of whose other users in other processes
   TSan knows nothing. */
const char *__tsan_default_options(void);
const char *__tsan_default_options(void) {
    return "report_mutex_bugs=0:report_destroy_locked=0";
}
#endif

/* ---- helpers ---- */

static wires line; /* between a test and its child */

static void run_child(void (*fn)(void *arg), void *arg) {
    reap(start_plain(fn, arg));
}

/* A name for a block that no other test program uses now. */
static const char *block_name(void) {
    static char name[MTASK_SHM_NAME];
    snprintf(name, sizeof name, "test.shm-%ld_A", (long)getpid());
    return name;
}

/* How many parts of memory are mapped to files or shared. */
static int count_mappings(void) {
    char text[512];
    int count = 0;
    FILE *file = fopen("/proc/self/maps", "r");
    testing_check(file != NULL);
    while (fgets(text, sizeof text, file) != NULL)
        count += strstr(text, " rw-s ") != NULL;
    fclose(file);
    return count;
}

static bool is_zero(const void *memory, size_t size) {
    const unsigned char *bytes = (const unsigned char *)memory;
    return size == 0 || (bytes[0] == 0 && memcmp(bytes, bytes + 1, size - 1) == 0);
}

/* Fails the test unless the call failed with this errno. */
static void check_refused(mtask_status status, int number) {
    int got = errno;
    ck_assert_status(status, MTASK_SYSTEM);
    ck_assert_int_eq(got, number);
}

static void close_shm(mtask_shm *shm) {
    ck_assert_status(mtask_shm_close(shm), MTASK_OK);
    ck_assert_ptr_null(shm->data);
}

/* Fails the test unless a block of that name can be made, and takes it away again. */
static void check_name_free(const char *name) {
    mtask_shm shm;
    ck_assert_status(mtask_shm_attach(&shm, name), MTASK_NOT_FOUND);
    ck_assert_status(mtask_shm_create(&shm, name, 100), MTASK_OK);
    close_shm(&shm);
    ck_assert_status(mtask_shm_attach(&shm, name), MTASK_NOT_FOUND);
}

/* ---- blocks ---- */

static void check_block(size_t size) {
    mtask_shm shm;
    memset(&shm, 0xee, sizeof shm);
    ck_assert_status(mtask_shm_create(&shm, NULL, size), MTASK_OK);
    ck_assert_uint_eq(shm.size, size);
    ck_assert_uint_eq((uintptr_t)shm.data % (uintptr_t)sysconf(_SC_PAGESIZE), 0);
    ck_assert_int_ge(shm.fd, 0);
    ck_assert_int_ne(fcntl(shm.fd, F_GETFD) & FD_CLOEXEC, 0);
    ck_assert_int_eq(shm.creator, getpid());
    ck_assert_str_eq(shm.name, "");
    ck_assert(is_zero(shm.data, size));
    memset(shm.data, 0x5a, size);
    close_shm(&shm);
}

START_TEST(a_block_has_its_size_and_is_zeroed) {
    static const size_t sizes[] = {1, 7, 4095, 4096, 4097, 70000, 3 << 20};
    int fds = count_fds(), mappings = count_mappings();
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        check_block(sizes[i]);
    ck_assert_int_eq(count_fds(), fds);
    ck_assert_int_eq(count_mappings(), mappings);
}
END_TEST

START_TEST(memory_is_taken_as_it_is_used) {
    mtask_shm shm;
    size_t size = sizeof(size_t) > 4 ? (size_t)1 << 30 << 4 : (size_t)1 << 28;
    if (TESTING_ASAN || TESTING_TSAN)
        return; /* they keep shadows of it */
    ck_assert_status(mtask_shm_create(&shm, NULL, size), MTASK_OK);
    ((char *)shm.data)[size - 1] = 1;
    ((char *)shm.data)[size / 2] = 1;
    close_shm(&shm);
}
END_TEST

START_TEST(what_cannot_be_made_is_refused) {
    static const char *const names[] = {"",         "/",  "/a",  "a/b", "a b",  "a\n",
                                        "\xc3\xa4", "a*", "a:b", "a+",  "../a", "a\\b",
                                        "%n",       ".",  "..",  ".a"};
    char name[MTASK_SHM_NAME + 1];
    mtask_shm shm;
    int fds = count_fds();
    ck_assert_status(mtask_shm_create(NULL, NULL, 1), MTASK_INVALID);
    ck_assert_status(mtask_shm_create(&shm, NULL, 0), MTASK_INVALID);
    ck_assert_status(mtask_shm_create(&shm, block_name(), 0), MTASK_INVALID);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        ck_assert_status(mtask_shm_create(&shm, names[i], 1), MTASK_INVALID);
        ck_assert_status(mtask_shm_attach(&shm, names[i]), MTASK_INVALID);
    }
    memset(name, 'n', sizeof name);
    name[MTASK_SHM_NAME] = '\0';
    ck_assert_status(mtask_shm_create(&shm, name, 1), MTASK_INVALID);
    ck_assert_status(mtask_shm_attach(&shm, NULL), MTASK_INVALID);
    ck_assert_status(mtask_shm_attach(NULL, block_name()), MTASK_INVALID);
    ck_assert(mtask_shm_create(&shm, NULL, SIZE_MAX) != MTASK_OK);
    ck_assert(mtask_shm_create(&shm, block_name(), SIZE_MAX / 2) != MTASK_OK);
    check_name_free(block_name());
    ck_assert_int_eq(count_fds(), fds);
}
END_TEST

START_TEST(names_are_of_letters_digits_and_signs) {
    static const char *const names[] = {"a", "0", "-", "_", "a.", "-rf", "Zz.09-_"};
    char name[MTASK_SHM_NAME];
    mtask_shm shm;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        snprintf(name, sizeof name, "%s%s%ld", names[i], names[i], (long)getpid());
        ck_assert_status(mtask_shm_create(&shm, name, 8), MTASK_OK);
        ck_assert_str_eq(shm.name, name);
        close_shm(&shm);
    }
    memset(name, 'n', sizeof name);
    snprintf(name, sizeof name, "%0*ld", MTASK_SHM_NAME - 1, (long)getpid());
    ck_assert_uint_eq(strlen(name), MTASK_SHM_NAME - 1);
    ck_assert_status(mtask_shm_create(&shm, name, 8), MTASK_OK);
    close_shm(&shm);
    check_name_free(name);
}
END_TEST

START_TEST(a_closed_block_is_closed) {
    mtask_shm shm, zeroed;
    memset(&zeroed, 0, sizeof zeroed);
    ck_assert_status(mtask_shm_close(&zeroed), MTASK_INVALID);
    ck_assert_status(mtask_shm_unlink(&zeroed), MTASK_INVALID);
    ck_assert_status(mtask_shm_close(NULL), MTASK_INVALID);
    ck_assert_status(mtask_shm_unlink(NULL), MTASK_INVALID);
    ck_assert_status(mtask_shm_create(&shm, block_name(), 64), MTASK_OK);
    close_shm(&shm);
    ck_assert_status(mtask_shm_close(&shm), MTASK_INVALID);
    ck_assert_status(mtask_shm_unlink(&shm), MTASK_INVALID);
    ck_assert_status(mtask_shm_attach(&shm, block_name()), MTASK_NOT_FOUND);
    ck_assert_ptr_null(shm.data); /* a handle that a call left closed */
    ck_assert_status(mtask_shm_close(&shm), MTASK_INVALID);
}
END_TEST

/* ---- who shares them ---- */

static void answer_in_block(void *arg) {
    mtask_shm *shm = (mtask_shm *)arg;
    int *numbers = (int *)shm->data;
    await_go(&line);
    testing_check(numbers[0] == 17);
    numbers[1] = 34;
    tell(&line, '!');
    await_go(&line);
    testing_check(numbers[0] == 18);
    ck_assert_status(mtask_shm_close(shm), MTASK_OK);
}

START_TEST(a_forked_child_has_it_at_the_same_address) {
    mtask_shm shm;
    int *numbers;
    pid_t pid;
    open_wires(&line);
    ck_assert_status(mtask_shm_create(&shm, NULL, 2 * sizeof(int)), MTASK_OK);
    numbers = (int *)shm.data;
    pid = start_plain(answer_in_block, &shm);
    numbers[0] = 17;
    say_go(&line);
    (void)hear(&line);
    ck_assert_int_eq(numbers[1], 34);
    numbers[0] = 18;
    say_go(&line);
    reap(pid);
    ck_assert_int_eq(numbers[0], 18); /* the child has closed its own only */
    close_shm(&shm);
}
END_TEST

/* Forked before the block was made. */
static void attach_by_name(void *arg) {
    mtask_shm shm, again;
    char *text;
    await_go(&line);
    ck_assert_status(mtask_shm_attach(&shm, (const char *)arg), MTASK_OK);
    text = (char *)shm.data;
    testing_check(shm.size == 5000 && shm.creator == 0 && shm.fd >= 0);
    testing_check(strcmp(shm.name, (const char *)arg) == 0);
    testing_check((fcntl(shm.fd, F_GETFD) & FD_CLOEXEC) != 0);
    testing_check(strcmp(text, "hello") == 0);
    strcpy(text + 4900, "goodbye");
    tell(&line, '!');
    ck_assert_status(mtask_shm_attach(&again, (const char *)arg), MTASK_OK);
    testing_check(again.data != shm.data && again.fd != shm.fd);
    testing_check(strcmp((char *)again.data + 4900, "goodbye") == 0);
    ck_assert_status(mtask_shm_close(&shm), MTASK_OK);
    strcpy((char *)again.data, "end");
    ck_assert_status(mtask_shm_close(&again), MTASK_OK);
}

START_TEST(processes_find_it_by_its_name) {
    mtask_shm shm;
    char *text;
    pid_t pid;
    open_wires(&line);
    pid = start_plain(attach_by_name, (void *)(uintptr_t)block_name());
    ck_assert_status(mtask_shm_create(&shm, block_name(), 5000), MTASK_OK);
    text = (char *)shm.data;
    strcpy(text, "hello");
    say_go(&line);
    (void)hear(&line);
    ck_assert_str_eq(text + 4900, "goodbye");
    reap(pid);
    ck_assert_str_eq(text, "end");
    close_shm(&shm);
    check_name_free(block_name());
}
END_TEST

START_TEST(a_descriptor_will_do) {
    mtask_shm shm, same;
    int copy, fds = count_fds();
    ck_assert_status(mtask_shm_create(&shm, NULL, 12345), MTASK_OK);
    strcpy((char *)shm.data, "here");
    copy = fcntl(shm.fd, F_DUPFD_CLOEXEC, 100);
    ck_assert_int_ge(copy, 100);
    ck_assert_status(mtask_shm_attach_fd(&same, copy), MTASK_OK);
    ck_assert_uint_eq(same.size, 12345);
    ck_assert_int_eq(same.creator, 0);
    ck_assert_ptr_ne(same.data, shm.data);
    ck_assert_int_ne(fcntl(same.fd, F_GETFD) & FD_CLOEXEC, 0);
    ck_assert_int_eq(close(copy), 0); /* it was still the test's */
    ck_assert_status(mtask_shm_unlink(&same), MTASK_NOT_OWNER);
    close_shm(&shm);
    ck_assert_str_eq((char *)same.data, "here");
    close_shm(&same);
    ck_assert_int_eq(count_fds(), fds);
}
END_TEST

START_TEST(descriptors_of_something_else_are_refused) {
    mtask_shm shm;
    int ends[2], null = open("/dev/null", O_RDWR | O_CLOEXEC), fds;
    ck_assert_int_eq(pipe(ends), 0);
    fds = count_fds();
    check_refused(mtask_shm_attach_fd(&shm, -1), EBADF);
    ck_assert_ptr_null(shm.data);
    ck_assert_status(mtask_shm_attach_fd(&shm, ends[0]), MTASK_INVALID);
    ck_assert_status(mtask_shm_attach_fd(&shm, ends[1]), MTASK_INVALID);
    ck_assert_status(mtask_shm_attach_fd(&shm, null), MTASK_INVALID);
    ck_assert_status(mtask_shm_attach_fd(NULL, null), MTASK_INVALID);
    ck_assert_int_eq(count_fds(), fds);
    close(ends[0]);
    close(ends[1]);
    close(null);
}
END_TEST

/* ---- names ---- */

static void find_it_taken(void *name) {
    mtask_shm shm;
    check_refused(mtask_shm_create(&shm, (const char *)name, 64), EEXIST);
    testing_check(shm.data == NULL);
}

START_TEST(a_name_is_taken_while_its_creator_has_it) {
    mtask_shm shm, other;
    void *name = (void *)(uintptr_t)block_name();
    int fds;
    ck_assert_status(mtask_shm_create(&shm, block_name(), 64), MTASK_OK);
    fds = count_fds();
    check_refused(mtask_shm_create(&other, block_name(), 64), EEXIST);
    ck_assert_int_eq(count_fds(), fds);
    run_child(find_it_taken, name);
    ck_assert_status(mtask_shm_attach(&other, block_name()), MTASK_OK);
    close_shm(&other);
    close_shm(&shm);
    check_name_free(block_name());
}
END_TEST

START_TEST(only_its_creator_takes_a_name_away) {
    mtask_shm shm, other;
    ck_assert_status(mtask_shm_create(&shm, block_name(), 64), MTASK_OK);
    ck_assert_status(mtask_shm_attach(&other, block_name()), MTASK_OK);
    ck_assert_status(mtask_shm_unlink(&other), MTASK_NOT_OWNER);
    close_shm(&other);
    ck_assert_status(mtask_shm_attach(&other, block_name()), MTASK_OK); /* it is there still */
    ck_assert_status(mtask_shm_unlink(&shm), MTASK_OK);
    ck_assert_status(mtask_shm_unlink(&shm), MTASK_NOT_FOUND);
    strcpy((char *)shm.data, "kept");
    ck_assert_str_eq((char *)other.data, "kept");
    check_name_free(block_name());
    close_shm(&shm);
    ck_assert_str_eq((char *)other.data, "kept");
    close_shm(&other);
    ck_assert_status(mtask_shm_create(&shm, NULL, 64), MTASK_OK);
    ck_assert_status(mtask_shm_unlink(&shm), MTASK_NOT_FOUND);
    close_shm(&shm);
}
END_TEST

START_TEST(who_lost_a_name_does_not_take_the_next_one_away) {
    mtask_shm first, second, found;
    ck_assert_status(mtask_shm_create(&first, block_name(), 64), MTASK_OK);
    ck_assert_status(mtask_shm_unlink(&first), MTASK_OK);
    ck_assert_status(mtask_shm_create(&second, block_name(), 65), MTASK_OK);
    ck_assert_status(mtask_shm_unlink(&first), MTASK_NOT_FOUND);
    close_shm(&first);
    ck_assert_status(mtask_shm_attach(&found, block_name()), MTASK_OK);
    ck_assert_uint_eq(found.size, 65);
    close_shm(&found);
    close_shm(&second);
    check_name_free(block_name());
}
END_TEST

/* A child that inherited the creator's handle. */
static void try_to_unlink(void *arg) {
    mtask_shm *shm = (mtask_shm *)arg;
    ck_assert_status(mtask_shm_unlink(shm), MTASK_NOT_OWNER);
    ck_assert_status(mtask_shm_close(shm), MTASK_OK);
}

static void just_end(void *arg) {
    (void)arg;
}

static void attach_and_close(void *name) {
    mtask_shm shm;
    ck_assert_status(mtask_shm_attach(&shm, (const char *)name), MTASK_OK);
    ck_assert_status(mtask_shm_unlink(&shm), MTASK_NOT_OWNER);
    ck_assert_status(mtask_shm_close(&shm), MTASK_OK);
}

static void attach_and_end(void *name) {
    mtask_shm shm;
    ck_assert_status(mtask_shm_attach(&shm, (const char *)name), MTASK_OK);
}

/* By exit, with all that runs there. */
static void exit_as_programs_do(void *arg) {
    (void)arg;
    if (!TESTING_ASAN && !TESTING_TSAN) /* which look for leaks of the parent's then */
        exit(0);
}

START_TEST(children_and_attachers_do_not_take_it_away) {
    mtask_shm shm, found;
    void *name = (void *)(uintptr_t)block_name();
    ck_assert_status(mtask_shm_create(&shm, block_name(), 77), MTASK_OK);
    run_child(try_to_unlink, &shm);
    run_child(just_end, NULL);
    run_child(exit_as_programs_do, NULL);
    run_child(attach_and_close, name);
    run_child(attach_and_end, name);
    ck_assert_status(mtask_shm_attach(&found, block_name()), MTASK_OK);
    ck_assert_uint_eq(found.size, 77);
    close_shm(&found);
    close_shm(&shm);
    check_name_free(block_name());
}
END_TEST

/* A creator that never closes it. */
static void create_and_stay(void *name) {
    mtask_shm shm;
    ck_assert_status(mtask_shm_create(&shm, (const char *)name, 300), MTASK_OK);
    strcpy((char *)shm.data, "last words");
    tell(&line, '!');
    await_go(&line);
}

START_TEST(the_name_goes_with_a_killed_creator) {
    mtask_shm kept, shm;
    void *name = (void *)(uintptr_t)block_name();
    pid_t pid;
    open_wires(&line);
    pid = start_plain(create_and_stay, name);
    (void)hear(&line);
    ck_assert_status(mtask_shm_attach(&kept, block_name()), MTASK_OK);
    check_refused(mtask_shm_create(&shm, block_name(), 64), EEXIST);
    slay(pid);
    ck_assert_status(mtask_shm_attach(&shm, block_name()), MTASK_NOT_FOUND);
    ck_assert_str_eq((char *)kept.data, "last words"); /* who has it keeps it */
    close_shm(&kept);
    check_name_free(block_name());
}
END_TEST

START_TEST(a_dead_creators_name_is_free) {
    mtask_shm shm;
    void *name = (void *)(uintptr_t)block_name();
    pid_t pid;
    open_wires(&line);
    pid = start_plain(create_and_stay, name);
    (void)hear(&line);
    slay(pid);
    ck_assert_status(mtask_shm_create(&shm, block_name(), 64), MTASK_OK);
    ck_assert(is_zero(shm.data, 64));
    run_child(find_it_taken, name);
    close_shm(&shm);
    pid = start_plain(create_and_stay, name); /* ends of itself, without closing it */
    (void)hear(&line);
    say_go(&line);
    reap(pid);
    check_name_free(block_name());
}
END_TEST

/* The creator's own child has the block, too; the name goes with the creator all the same. */
static void create_and_fork(void *name) {
    mtask_shm shm;
    pid_t pid;
    ck_assert_status(mtask_shm_create(&shm, (const char *)name, 300), MTASK_OK);
    pid = fork();
    testing_check(pid >= 0);
    if (pid == 0) {
        await_go(&line);
        strcpy((char *)shm.data, "orphan");
        tell(&line, '!');
        await_go(&line);
    }
}

START_TEST(a_child_of_the_creator_does_not_keep_the_name) {
    mtask_shm shm;
    void *name = (void *)(uintptr_t)block_name();
    if (!CAN_SHARE)
        return; /* there it does */
    open_wires(&line);
    run_child(create_and_fork, name);
    ck_assert_status(mtask_shm_attach(&shm, block_name()), MTASK_NOT_FOUND);
    ck_assert_status(mtask_shm_create(&shm, block_name(), 64), MTASK_OK);
    say_go(&line);
    (void)hear(&line);
    ck_assert(is_zero(shm.data, 64)); /* it is another one */
    say_go(&line);
    close_shm(&shm);
}
END_TEST

enum { RACERS = 4 };

/* A round in which some want the name; they start when the test closes one pipe, and stay until it
   closes another. */
typedef struct name_race {
    char name[MTASK_SHM_NAME];
    int start[2];
    int stop[2];
    int winners; /* in shared memory, as all of it */
    pid_t winner;
} name_race;

static void race_for_name(void *arg) {
    name_race *race = (name_race *)arg;
    mtask_shm shm;
    char byte;
    mtask_status status;
    close(race->start[1]);
    close(race->stop[1]);
    testing_check(read(race->start[0], &byte, 1) == 0);
    status = mtask_shm_create(&shm, race->name, 64);
    if (status == MTASK_OK) {
        race->winner = *(pid_t *)shm.data = getpid();
        __atomic_add_fetch(&race->winners, 1, __ATOMIC_SEQ_CST);
    } else {
        check_refused(status, EEXIST);
    }
    tell(&line, '!');
    testing_check(read(race->stop[0], &byte, 1) == 0);
}

static void run_name_race(name_race *race) {
    pid_t pids[RACERS];
    mtask_shm shm;
    race->winners = 0;
    testing_check(pipe(race->start) == 0 && pipe(race->stop) == 0);
    for (int i = 0; i < RACERS; i++)
        pids[i] = start_plain(race_for_name, race);
    close(race->start[0]);
    close(race->stop[0]);
    close(race->start[1]);
    for (int i = 0; i < RACERS; i++)
        (void)hear(&line);
    ck_assert_int_eq(race->winners, 1);
    ck_assert_status(mtask_shm_attach(&shm, race->name), MTASK_OK);
    ck_assert_int_eq(*(pid_t *)shm.data, race->winner);
    close_shm(&shm);
    close(race->stop[1]);
    for (int i = 0; i < RACERS; i++)
        reap(pids[i]);
}

/* From the second round on, the name is that of a dead creator. */
START_TEST(of_several_one_gets_a_name) {
    name_race *race = (name_race *)share_memory(sizeof *race);
    strcpy(race->name, block_name());
    open_wires(&line);
    for (long i = testing_scale(60); i > 0; i--)
        run_name_race(race);
    check_name_free(race->name);
}
END_TEST

/* Another user does not get at it by its name. */
static void attach_as_another_user(void *name) {
    mtask_shm shm;
    testing_check(setgid(65534) == 0 && setuid(65534) == 0);
    testing_check(mtask_shm_attach(&shm, (const char *)name) != MTASK_OK);
    ck_assert_status(mtask_shm_create(&shm, (const char *)name, 64), MTASK_OK);
    tell(&line, '!');
    await_go(&line);
    ck_assert_status(mtask_shm_close(&shm), MTASK_OK);
}

START_TEST(users_have_names_of_their_own) {
    mtask_shm shm, found;
    pid_t pid;
    if (geteuid() != 0)
        return;
    open_wires(&line);
    ck_assert_status(mtask_shm_create(&shm, block_name(), 77), MTASK_OK);
    pid = start_plain(attach_as_another_user, (void *)(uintptr_t)block_name());
    (void)hear(&line);
    ck_assert_status(mtask_shm_attach(&found, block_name()), MTASK_OK);
    ck_assert_uint_eq(found.size, 77);
    close_shm(&found);
    say_go(&line);
    reap(pid);
    close_shm(&shm);
}
END_TEST

/* ---- arrays ---- */

static void close_array(mtask_array *array) {
    ck_assert_status(mtask_array_close(array), MTASK_OK);
    ck_assert_ptr_null(array->memory.data);
}

/* An array without a name; false where processes have no lock. */
static bool open_array(mtask_array *array, size_t count, size_t item_size) {
    mtask_status status = mtask_array_create(array, NULL, count, item_size);
    if (status == MTASK_UNSUPPORTED && !CAN_SHARE)
        return false;
    ck_assert_status(status, MTASK_OK);
    return true;
}

START_TEST(an_array_holds_its_items) {
    static const size_t shapes[][2] = {{1, 1}, {1, 8}, {1000, 4}, {3, 24}, {2, 100000}, {17, 1}};
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        mtask_array array;
        size_t count = shapes[i][0], item_size = shapes[i][1];
        if (!open_array(&array, count, item_size))
            return;
        ck_assert_uint_eq(mtask_array_count(&array), count);
        ck_assert_uint_eq(mtask_array_item_size(&array), item_size);
        ck_assert_uint_eq((uintptr_t)mtask_array_data(&array) % 64, 0);
        ck_assert(is_zero(mtask_array_data(&array), count * item_size));
        memset(mtask_array_data(&array), 0x77, count * item_size);
        ck_assert_uint_eq(mtask_array_count(&array), count);
        close_array(&array);
    }
}
END_TEST

START_TEST(items_are_got_and_set) {
    mtask_array array;
    int64_t item;
    if (!open_array(&array, 5, sizeof item))
        return;
    for (int64_t i = 0; i < 5; i++) {
        item = i * i + 1;
        ck_assert_status(mtask_array_set(&array, (size_t)i, &item), MTASK_OK);
    }
    for (int64_t i = 0; i < 5; i++) {
        ck_assert_status(mtask_array_get(&array, (size_t)i, &item), MTASK_OK);
        ck_assert_int_eq(item, i * i + 1);
        ck_assert_int_eq(((int64_t *)mtask_array_data(&array))[i], item);
    }
    item = -1;
    ck_assert_status(mtask_array_get(&array, 5, &item), MTASK_NOT_FOUND);
    ck_assert_status(mtask_array_set(&array, 5, &item), MTASK_NOT_FOUND);
    ck_assert_status(mtask_array_get(&array, SIZE_MAX, &item), MTASK_NOT_FOUND);
    ck_assert_status(mtask_array_get(&array, 0, NULL), MTASK_INVALID);
    ck_assert_status(mtask_array_set(&array, 0, NULL), MTASK_INVALID);
    ck_assert_int_eq(item, -1);
    ck_assert_status(mtask_array_lock(&array, MTASK_NOWAIT), MTASK_OK); /* nobody kept the lock */
    ck_assert_status(mtask_array_unlock(&array), MTASK_OK);
    close_array(&array);
}
END_TEST

START_TEST(arrays_that_cannot_be_are_refused) {
    mtask_array array;
    ck_assert_status(mtask_array_create(NULL, NULL, 1, 1), MTASK_INVALID);
    ck_assert_status(mtask_array_create(&array, NULL, 0, 1), MTASK_INVALID);
    ck_assert_status(mtask_array_create(&array, NULL, 1, 0), MTASK_INVALID);
    ck_assert_status(mtask_array_create(&array, "a/b", 1, 1), MTASK_INVALID);
    ck_assert_status(mtask_array_create(&array, NULL, SIZE_MAX, 1), MTASK_OVERFLOW);
    ck_assert_status(mtask_array_create(&array, NULL, SIZE_MAX / 2, 3), MTASK_OVERFLOW);
    ck_assert_status(mtask_array_create(&array, NULL, 1, SIZE_MAX - 8), MTASK_OVERFLOW);
    ck_assert_status(mtask_array_attach(&array, block_name()), MTASK_NOT_FOUND);
    ck_assert_ptr_null(array.memory.data);
    ck_assert_status(mtask_array_close(&array), MTASK_INVALID);
    ck_assert_status(mtask_array_close(NULL), MTASK_INVALID);
    check_name_free(block_name());
}
END_TEST

START_TEST(what_is_no_array_is_refused) {
    mtask_shm shm;
    mtask_array array;
    mtask_arena arena;
    int fds;
    ck_assert_status(mtask_shm_create(&shm, block_name(), 4096), MTASK_OK);
    fds = count_fds();
    ck_assert_status(mtask_array_attach(&array, block_name()), MTASK_INVALID);
    ck_assert_status(mtask_array_attach_fd(&array, shm.fd), MTASK_INVALID);
    ck_assert_status(mtask_arena_attach(&arena, block_name()), MTASK_INVALID);
    ck_assert_status(mtask_arena_attach_fd(&arena, shm.fd), MTASK_INVALID);
    ck_assert_ptr_null(array.memory.data);
    ck_assert_ptr_null(arena.memory.data);
    ck_assert_int_eq(count_fds(), fds);
    memset(shm.data, 0xff, shm.size);
    ck_assert_status(mtask_array_attach_fd(&array, shm.fd), MTASK_INVALID);
    ck_assert_status(mtask_arena_attach_fd(&arena, shm.fd), MTASK_INVALID);
    close_shm(&shm);
    ck_assert_status(mtask_shm_create(&shm, NULL, 1), MTASK_OK); /* too short for anything */
    ck_assert_status(mtask_array_attach_fd(&array, shm.fd), MTASK_INVALID);
    ck_assert_status(mtask_arena_attach_fd(&arena, shm.fd), MTASK_INVALID);
    close_shm(&shm);
    if (!open_array(&array, 1000, 8))
        return;
    ck_assert_status(mtask_arena_attach_fd(&arena, array.memory.fd), MTASK_INVALID);
    close_array(&array);
    ck_assert_status(mtask_arena_create(&arena, NULL, 10000), MTASK_OK);
    ck_assert_status(mtask_array_attach_fd(&array, arena.memory.fd), MTASK_INVALID);
    ck_assert_status(mtask_arena_close(&arena), MTASK_OK);
}
END_TEST

START_TEST(an_arrays_lock_knows_its_owner) {
    mtask_array array;
    int64_t start;
    if (!open_array(&array, 1, 8))
        return;
    ck_assert_status(mtask_array_unlock(&array), MTASK_NOT_OWNER);
    ck_assert_status(mtask_array_lock(&array, -1), MTASK_INVALID);
    ck_assert_status(mtask_array_lock(&array, MTASK_FOREVER), MTASK_OK);
    ck_assert_status(mtask_array_lock(&array, MTASK_FOREVER), MTASK_DEADLOCK);
    start = mtask_now();
    ck_assert_status(mtask_array_get(&array, 0, &start), MTASK_DEADLOCK);
    ck_assert_status(mtask_array_unlock(&array), MTASK_OK);
    ck_assert_status(mtask_array_unlock(&array), MTASK_NOT_OWNER);
    close_array(&array);
}
END_TEST

/* The parent has the lock. */
static void be_locked_out(void *arg) {
    mtask_array *array = (mtask_array *)arg;
    int64_t start = mtask_now();
    ck_assert_status(mtask_array_unlock(array), MTASK_NOT_OWNER);
    ck_assert_status(mtask_array_lock(array, MTASK_NOWAIT), MTASK_TIMEOUT);
    ck_assert_status(mtask_array_lock(array, MTASK_MS(20)), MTASK_TIMEOUT);
    testing_check(mtask_now() - start >= MTASK_MS(20));
    tell(&line, '!');
    ck_assert_status(mtask_array_lock(array, MTASK_FOREVER), MTASK_OK);
    testing_check(*(int *)mtask_array_data(array) == 5);
    ck_assert_status(mtask_array_unlock(array), MTASK_OK);
}

START_TEST(a_locked_array_keeps_others_out) {
    mtask_array array;
    pid_t pid;
    if (!open_array(&array, 1, sizeof(int)))
        return;
    open_wires(&line);
    ck_assert_status(mtask_array_lock(&array, MTASK_FOREVER), MTASK_OK);
    pid = start_plain(be_locked_out, &array);
    (void)hear(&line);
    testing_await_process_asleep(pid);
    *(int *)mtask_array_data(&array) = 5;
    ck_assert_status(mtask_array_unlock(&array), MTASK_OK);
    reap(pid);
    close_array(&array);
}
END_TEST

static long rounds; /* of each child */

static void count_in_array(void *arg) {
    mtask_array *array = (mtask_array *)arg;
    long *numbers = (long *)mtask_array_data(array);
    for (long i = 0; i < rounds; i++) {
        ck_assert_status(mtask_array_lock(array, MTASK_FOREVER), MTASK_OK);
        testing_check(numbers[0] == numbers[1]);
        numbers[0]++;
        if (i % 16 == 0)
            sched_yield();
        numbers[1]++;
        ck_assert_status(mtask_array_unlock(array), MTASK_OK);
    }
}

START_TEST(an_arrays_lock_excludes_processes) {
    mtask_array array;
    pid_t pids[2];
    if (!open_array(&array, 2, sizeof(long)))
        return;
    rounds = testing_scale(20000);
    for (int i = 0; i < 2; i++)
        pids[i] = start_plain(count_in_array, &array);
    count_in_array(&array);
    reap(pids[0]);
    reap(pids[1]);
    ck_assert_int_eq(*(long *)mtask_array_data(&array), 3 * rounds);
    close_array(&array);
}
END_TEST

/* Takes the lock and keeps it until it is killed. */
static void lock_and_stay(void *arg) {
    mtask_array *array = (mtask_array *)arg;
    mtask_status status = mtask_array_lock(array, MTASK_FOREVER);
    testing_check(status == MTASK_OK || status == MTASK_OWNER_DEAD);
    tell(&line, '!');
    await_go(&line);
}

static void kill_the_owner(mtask_array *array) {
    pid_t pid = start_plain(lock_and_stay, array);
    (void)hear(&line);
    ck_assert_status(mtask_array_lock(array, MTASK_NOWAIT), MTASK_TIMEOUT);
    slay(pid);
}

START_TEST(an_owner_that_was_killed_is_told_of_once) {
    mtask_array array;
    long item = 9;
    if (!open_array(&array, 3, sizeof item))
        return;
    open_wires(&line);
    kill_the_owner(&array);
    ck_assert_status(mtask_array_lock(&array, MTASK_FOREVER), MTASK_OWNER_DEAD);
    ck_assert_status(mtask_array_lock(&array, MTASK_FOREVER), MTASK_DEADLOCK); /* it is locked */
    ck_assert_status(mtask_array_unlock(&array), MTASK_OK);
    ck_assert_status(mtask_array_lock(&array, MTASK_FOREVER), MTASK_OK);
    ck_assert_status(mtask_array_unlock(&array), MTASK_OK);
    kill_the_owner(&array);
    ck_assert_status(mtask_array_set(&array, 1, &item), MTASK_OK); /* these go on */
    kill_the_owner(&array);
    ck_assert_status(mtask_array_get(&array, 1, &item), MTASK_OK);
    ck_assert_int_eq(item, 9);
    slay(start_plain(lock_and_stay, &array));
    kill_the_owner(&array); /* who had been told, perhaps */
    ck_assert_status(mtask_array_lock(&array, MTASK_NOWAIT), MTASK_OWNER_DEAD);
    ck_assert_status(mtask_array_unlock(&array), MTASK_OK);
    close_array(&array);
}
END_TEST

/* Another thread, while the owner is killed in its sleep. */
static void wait_for_lock(testing_member *self) {
    mtask_array *array = (mtask_array *)self->arg;
    self->status = mtask_array_lock(array, MTASK_FOREVER);
    ck_assert_status(mtask_array_unlock(array), MTASK_OK);
}

START_TEST(who_waits_is_told_that_the_owner_was_killed) {
    mtask_array array;
    testing_crowd crowd;
    pid_t pid;
    if (!open_array(&array, 1, 1))
        return;
    open_wires(&line);
    pid = start_plain(lock_and_stay, &array);
    (void)hear(&line);
    testing_crowd_start(&crowd, 2, wait_for_lock, &array);
    testing_crowd_await_asleep(&crowd, 2);
    slay(pid);
    testing_crowd_join(&crowd);
    ck_assert_int_eq(testing_crowd_count(&crowd, MTASK_OWNER_DEAD), 1);
    ck_assert_int_eq(testing_crowd_count(&crowd, MTASK_OK), 1);
    close_array(&array);
}
END_TEST

/* Tasks of a loop: one waits, the other has its turns meanwhile. */
static void *wait_in_task(void *arg) {
    mtask_array *array = (mtask_array *)arg;
    ck_assert_status(mtask_array_lock(array, MTASK_MS(5)), MTASK_TIMEOUT);
    say_go(&line); /* to let go */
    ck_assert_status(mtask_array_lock(array, MTASK_FOREVER), MTASK_OK);
    ck_assert_status(mtask_array_unlock(array), MTASK_OK);
    return NULL;
}

static void *be_canceled(void *arg) {
    ck_assert_status(mtask_array_lock((mtask_array *)arg, MTASK_SEC(1000)), MTASK_CANCELED);
    return NULL;
}

static void *lock_in_task(void *arg) {
    mtask_future *waiter = go(be_canceled, arg);
    take_turns(); /* it does not keep the thread */
    ck_assert(!mtask_future_done(waiter));
    ck_assert_status(mtask_future_cancel(waiter), MTASK_OK);
    ck_assert_status(mtask_future_wait(waiter, MTASK_FOREVER), MTASK_OK);
    mtask_future_release(waiter);
    (void)take(go(wait_in_task, arg));
    return NULL;
}

static void lock_until_told(void *arg) {
    mtask_array *array = (mtask_array *)arg;
    ck_assert_status(mtask_array_lock(array, MTASK_FOREVER), MTASK_OK);
    tell(&line, '!');
    await_go(&line);
    ck_assert_status(mtask_array_unlock(array), MTASK_OK);
}

START_TEST(tasks_of_a_loop_wait_for_it) {
    mtask_array array;
    pid_t pid;
    if (!open_array(&array, 1, 1))
        return;
    open_wires(&line);
    pid = start_plain(lock_until_told, &array);
    (void)hear(&line);
    (void)in_loop(lock_in_task, &array);
    reap(pid);
    close_array(&array);
}
END_TEST

static void attach_to_array(void *name) {
    mtask_array array, again;
    int item = 0;
    await_go(&line);
    ck_assert_status(mtask_array_attach(&array, (const char *)name), MTASK_OK);
    testing_check(mtask_array_count(&array) == 10);
    testing_check(mtask_array_item_size(&array) == sizeof item);
    testing_check((uintptr_t)mtask_array_data(&array) % 64 == 0);
    ck_assert_status(mtask_array_get(&array, 3, &item), MTASK_OK);
    testing_check(item == 33);
    ck_assert_status(mtask_array_attach_fd(&again, array.memory.fd), MTASK_OK);
    testing_check(mtask_array_data(&again) != mtask_array_data(&array));
    item = 44;
    ck_assert_status(mtask_array_set(&again, 4, &item), MTASK_OK);
    ck_assert_status(mtask_array_close(&array), MTASK_OK);
    ck_assert_status(mtask_array_get(&again, 4, &item), MTASK_OK);
    ck_assert_status(mtask_array_lock(&again, MTASK_FOREVER), MTASK_OK);
    tell(&line, '!');
    await_go(&line);
    ck_assert_status(mtask_array_unlock(&again), MTASK_OK);
    ck_assert_status(mtask_array_close(&again), MTASK_OK);
}

START_TEST(other_processes_attach_an_array) {
    mtask_array array;
    int item = 33;
    mtask_status status;
    pid_t pid;
    open_wires(&line);
    pid = start_plain(attach_to_array, (void *)(uintptr_t)block_name());
    status = mtask_array_create(&array, block_name(), 10, sizeof item);
    if (status == MTASK_UNSUPPORTED && !CAN_SHARE) {
        slay(pid);
        return;
    }
    ck_assert_status(status, MTASK_OK);
    ck_assert_status(mtask_array_set(&array, 3, &item), MTASK_OK);
    say_go(&line);
    (void)hear(&line);
    ck_assert_status(mtask_array_lock(&array, MTASK_NOWAIT), MTASK_TIMEOUT);
    say_go(&line);
    ck_assert_status(mtask_array_get(&array, 4, &item), MTASK_OK);
    ck_assert_int_eq(item, 44);
    reap(pid);
    close_array(&array);
    check_name_free(block_name());
}
END_TEST

/* ---- arenas ---- */

/* An arena without a name; false where processes have no lock. */
static bool open_arena(mtask_arena *arena, size_t size) {
    mtask_status status = mtask_arena_create(arena, NULL, size);
    if (status == MTASK_UNSUPPORTED && !CAN_SHARE)
        return false;
    ck_assert_status(status, MTASK_OK);
    return true;
}

static void close_arena(mtask_arena *arena) {
    ck_assert_status(mtask_arena_close(arena), MTASK_OK);
    ck_assert_ptr_null(arena->memory.data);
}

static void *alloc_piece(mtask_arena *arena, size_t size) {
    void *piece = NULL;
    ck_assert_status(mtask_arena_alloc(arena, size, &piece), MTASK_OK);
    testing_check(piece != NULL);
    return piece;
}

static void free_piece(mtask_arena *arena, void *piece) {
    ck_assert_status(mtask_arena_free(arena, piece), MTASK_OK);
}

enum { PIECES = 40 };

/* Fails the test unless the pieces are filled with what their places say. */
static void check_pieces(char *const *pieces, const size_t *sizes) {
    for (int i = 0; i < PIECES; i++)
        ck_assert(pieces[i][0] == (char)i && memcmp(pieces[i], pieces[i] + 1, sizes[i] - 1) == 0);
}

START_TEST(pieces_are_zeroed_aligned_and_apart) {
    mtask_arena arena;
    char *pieces[PIECES];
    size_t sizes[PIECES];
    testing_random random = testing_random_make(testing_seed(), 0);
    if (!open_arena(&arena, 1 << 19))
        return;
    for (int i = 0; i < PIECES; i++) {
        sizes[i] = (size_t)testing_below(&random, 1 << testing_below(&random, 13)) + 1;
        pieces[i] = (char *)alloc_piece(&arena, sizes[i]);
        ck_assert_uint_eq((uintptr_t)pieces[i] % 64, 0);
        ck_assert(is_zero(pieces[i], sizes[i]));
        memset(pieces[i], i, sizes[i]);
    }
    check_pieces(pieces, sizes);
    for (int i = 0; i < PIECES; i += 2) { /* memory that was used is zeroed, too */
        free_piece(&arena, pieces[i]);
        pieces[i] = (char *)alloc_piece(&arena, sizes[i]);
        ck_assert(is_zero(pieces[i], sizes[i]));
        memset(pieces[i], i, sizes[i]);
    }
    check_pieces(pieces, sizes);
    close_arena(&arena);
}
END_TEST

/* Takes pieces of that size until there are no more; how many. */
static int exhaust(mtask_arena *arena, size_t size, void **pieces, int capacity) {
    int count = 0;
    mtask_status status = MTASK_OK;
    while (count < capacity &&
           (status = mtask_arena_alloc(arena, size, &pieces[count])) == MTASK_OK)
        count++;
    ck_assert_status(status, MTASK_NOMEM);
    return count;
}

START_TEST(an_arena_can_be_full_and_used_again) {
    mtask_arena arena;
    void *pieces[300];
    if (!open_arena(&arena, 64 * 200))
        return;
    ck_assert_uint_ge(mtask_arena_left(&arena), 64 * 200);
    for (int turn = 0; turn < 3; turn++) {
        size_t before = mtask_arena_left(&arena);
        int count = exhaust(&arena, 64, pieces, 300);
        ck_assert_int_ge(count, 200);
        ck_assert_uint_lt(mtask_arena_left(&arena), 64);
        free_piece(&arena, pieces[count / 2]);
        ck_assert_uint_ge(mtask_arena_left(&arena), 64);
        pieces[count / 2] = alloc_piece(&arena, 50);
        for (int i = 0; i < count; i += 2)
            free_piece(&arena, pieces[i]);
        for (int i = 1; i < count; i += 2)
            free_piece(&arena, pieces[i]);
        ck_assert_uint_eq(mtask_arena_left(&arena), before);
    }
    close_arena(&arena);
}
END_TEST

/* Sizes are rounded up to powers of 2: so many pieces of each fit, however they come. */
START_TEST(pieces_given_back_serve_other_sizes) {
    mtask_arena arena;
    void *pieces[300];
    int count;
    if (!open_arena(&arena, 64 * 256))
        return;
    count = exhaust(&arena, 64, pieces, 300);
    ck_assert_int_ge(count, 256);
    while (count > 0)
        free_piece(&arena, pieces[--count]);
    free_piece(&arena, alloc_piece(&arena, 64 * 256));
    count = exhaust(&arena, 1000, pieces, 300);
    ck_assert_int_ge(count, 16);
    while (count > 0)
        free_piece(&arena, pieces[--count]);
    close_arena(&arena);
}
END_TEST

START_TEST(pieces_that_cannot_be_had_or_given_are_refused) {
    mtask_arena arena, other;
    void *piece = &arena, *elsewhere;
    char *mine;
    if (!open_arena(&arena, 4096) || !open_arena(&other, 4096))
        return;
    ck_assert_status(mtask_arena_alloc(&arena, 0, &piece), MTASK_INVALID);
    ck_assert_status(mtask_arena_alloc(&arena, 1, NULL), MTASK_INVALID);
    ck_assert_status(mtask_arena_alloc(NULL, 1, &piece), MTASK_INVALID);
    ck_assert_status(mtask_arena_alloc(&arena, 1 << 20, &piece), MTASK_NOMEM);
    ck_assert_status(mtask_arena_alloc(&arena, SIZE_MAX, &piece), MTASK_NOMEM);
    ck_assert_status(mtask_arena_alloc(&arena, SIZE_MAX / 2 + 2, &piece), MTASK_NOMEM);
    mine = (char *)alloc_piece(&arena, 500);
    elsewhere = alloc_piece(&other, 500);
    ck_assert_status(mtask_arena_free(&arena, NULL), MTASK_OK);
    ck_assert_status(mtask_arena_free(NULL, mine), MTASK_INVALID);
    ck_assert_status(mtask_arena_free(&arena, &piece), MTASK_INVALID);
    ck_assert_status(mtask_arena_free(&arena, elsewhere), MTASK_INVALID);
    ck_assert_status(mtask_arena_free(&arena, mine + 1), MTASK_INVALID);
    ck_assert_status(mtask_arena_free(&arena, mine + 64), MTASK_INVALID);
    ck_assert_status(mtask_arena_free(&arena, mine - 64), MTASK_INVALID);
    ck_assert_status(mtask_arena_free(&arena, arena.memory.data), MTASK_INVALID);
    ck_assert_status(mtask_arena_free(&arena, (char *)arena.memory.data + arena.memory.size),
                     MTASK_INVALID);
    free_piece(&arena, mine);
    ck_assert_status(mtask_arena_free(&arena, mine), MTASK_INVALID); /* for the second time */
    ck_assert_ptr_ne(alloc_piece(&other, 64), elsewhere);            /* which was not given back */
    close_arena(&arena);
    close_arena(&other);
}
END_TEST

START_TEST(a_piece_that_was_given_back_and_merged_is_refused) {
    mtask_arena arena;
    void *pieces[64];
    int count;
    if (!open_arena(&arena, 64 * 32))
        return;
    count = exhaust(&arena, 64, pieces, 64);
    for (int i = 0; i < count; i++)
        free_piece(&arena, pieces[i]);
    for (int i = 0; i < count; i++)
        ck_assert_status(mtask_arena_free(&arena, pieces[i]), MTASK_INVALID);
    (void)alloc_piece(&arena, 64 * 32);
    for (int i = 1; i < count; i++) /* the first may be that one's place */
        ck_assert(pieces[i] == pieces[0] || mtask_arena_free(&arena, pieces[i]) == MTASK_INVALID);
    close_arena(&arena);
}
END_TEST

START_TEST(arenas_that_cannot_be_are_refused) {
    mtask_arena arena;
    ck_assert_status(mtask_arena_create(NULL, NULL, 4096), MTASK_INVALID);
    ck_assert_status(mtask_arena_create(&arena, NULL, 0), MTASK_INVALID);
    ck_assert_status(mtask_arena_create(&arena, "a/b", 4096), MTASK_INVALID);
    ck_assert_status(mtask_arena_attach(&arena, block_name()), MTASK_NOT_FOUND);
    ck_assert_ptr_null(arena.memory.data);
    ck_assert_status(mtask_arena_close(&arena), MTASK_INVALID);
    ck_assert_status(mtask_arena_close(NULL), MTASK_INVALID);
    ck_assert_status(mtask_arena_create(&arena, block_name(), SIZE_MAX), MTASK_OVERFLOW);
    check_name_free(block_name());
}
END_TEST

START_TEST(a_piece_is_found_in_another_mapping) {
    mtask_arena arena, same;
    char *piece, *there;
    size_t offset;
    if (!open_arena(&arena, 10000))
        return;
    ck_assert_status(mtask_arena_attach_fd(&same, arena.memory.fd), MTASK_OK);
    ck_assert_ptr_ne(same.memory.data, arena.memory.data);
    ck_assert_ptr_null(mtask_arena_root(&arena));
    ck_assert_ptr_null(mtask_arena_at(&arena, 0));
    ck_assert_uint_eq(mtask_arena_offset(&arena, NULL), 0);
    piece = (char *)alloc_piece(&arena, 777);
    strcpy(piece, "piece");
    offset = mtask_arena_offset(&arena, piece);
    ck_assert_uint_ne(offset, 0);
    ck_assert_ptr_eq(mtask_arena_at(&arena, offset), piece);
    there = (char *)mtask_arena_at(&same, offset);
    ck_assert_ptr_ne(there, piece);
    ck_assert_str_eq(there, "piece");
    ck_assert_uint_eq(mtask_arena_offset(&same, there), offset);
    mtask_arena_set_root(&arena, piece);
    ck_assert_ptr_eq(mtask_arena_root(&arena), piece);
    ck_assert_ptr_eq(mtask_arena_root(&same), there);
    free_piece(&same, there); /* the piece is the same one */
    ck_assert_status(mtask_arena_free(&arena, piece), MTASK_INVALID);
    mtask_arena_set_root(&same, NULL);
    ck_assert_ptr_null(mtask_arena_root(&arena));
    close_arena(&same);
    close_arena(&arena);
}
END_TEST

enum { OWNERS = 3, HELD = 12 };

/* Takes pieces, marks them as its own, looks whether they still are, gives them back. */
static void take_and_give(mtask_arena *arena, unsigned owner, testing_random *random) {
    uint32_t *held[HELD] = {NULL};
    size_t words[HELD] = {0};
    for (long i = 0; i < rounds; i++) {
        size_t at = (size_t)testing_below(random, HELD);
        void *piece;
        for (size_t word = 0; word < words[at]; word++)
            testing_check(held[at][word] == owner);
        ck_assert_status(mtask_arena_free(arena, held[at]), MTASK_OK);
        held[at] = NULL;
        words[at] = 0;
        if (testing_below(random, 4) == 0)
            continue;
        words[at] = (size_t)testing_below(random, 1 << testing_below(random, 8)) + 1;
        if (mtask_arena_alloc(arena, words[at] * 4, &piece) != MTASK_OK) {
            words[at] = 0;
            continue;
        }
        testing_check(is_zero(piece, words[at] * 4));
        held[at] = (uint32_t *)piece;
        for (size_t word = 0; word < words[at]; word++)
            held[at][word] = owner;
    }
    for (int i = 0; i < HELD; i++)
        ck_assert_status(mtask_arena_free(arena, held[i]), MTASK_OK);
}

static uint64_t arena_seed;

static void use_arena(void *arg) {
    mtask_arena *arena = (mtask_arena *)arg;
    testing_random random = testing_random_make(arena_seed, (unsigned)getpid());
    take_and_give(arena, (uint32_t)getpid(), &random);
}

/* By an address of its own. */
static void use_attached_arena(void *arg) {
    mtask_arena arena;
    ck_assert_status(mtask_arena_attach_fd(&arena, ((mtask_arena *)arg)->memory.fd), MTASK_OK);
    use_arena(&arena);
    ck_assert_status(mtask_arena_close(&arena), MTASK_OK);
}

START_TEST(processes_take_pieces_at_once) {
    mtask_arena arena;
    pid_t pids[OWNERS];
    size_t left;
    if (!open_arena(&arena, 16384))
        return;
    arena_seed = testing_seed();
    rounds = testing_scale(8000);
    left = mtask_arena_left(&arena);
    for (int i = 0; i < OWNERS; i++)
        pids[i] = start_plain(i == 0 ? use_attached_arena : use_arena, &arena);
    use_arena(&arena);
    for (int i = 0; i < OWNERS; i++)
        reap(pids[i]);
    ck_assert_uint_eq(mtask_arena_left(&arena), left);
    close_arena(&arena);
}
END_TEST

static void use_arena_until_killed(void *arg) {
    rounds = LONG_MAX;
    tell(&line, '!');
    use_arena(arg);
}

/* What the killed ones held is lost; others' pieces are not touched, and the rest can be had. */
START_TEST(users_of_an_arena_are_killed) {
    mtask_arena arena;
    testing_random random = testing_random_make(testing_seed(), 0);
    uint32_t *mine;
    size_t left, lost = 0;
    if (!open_arena(&arena, 1 << 20))
        return;
    open_wires(&line);
    left = mtask_arena_left(&arena);
    mine = (uint32_t *)alloc_piece(&arena, 4096);
    *mine = 12;
    arena_seed = testing_next(&random);
    for (long i = testing_scale(100); i > 0; i--) {
        pid_t pid = start_plain(use_arena_until_killed, &arena);
        (void)hear(&line);
        testing_dawdle(&random, 200000);
        slay(pid);
        rounds = 50;
        use_arena(&arena);
        ck_assert_uint_eq(*mine, 12);
        lost += (HELD + 1) * 1024;
    }
    free_piece(&arena, mine);
    ck_assert_uint_ge(mtask_arena_left(&arena) + lost, left);
    close_arena(&arena);
}
END_TEST

/* ---- killed after any number of instructions ----

   A process is stepped through one call and killed somewhere in it; then all must be as before the
   call or as after it, but for what the call was about. */

typedef struct stage {
    int done; /* the call has returned */
    char name[MTASK_SHM_NAME];
    mtask_arena arena;
    mtask_array array;
    mtask_shm shm;
    void *pieces[4];
    size_t left;
} stage;

typedef struct act {
    const char *name;
    void (*prepare)(stage *all); /* in the test */
    void (*begin)(stage *all);   /* in the process, not stepped; NULL: nothing */
    void (*call)(stage *all);
    void (*verify)(stage *all);
} act;

enum { STAGE_SIZE = 4096, PIECE = 512 };

static void prepare_arena(stage *all) {
    ck_assert(open_arena(&all->arena, STAGE_SIZE));
    for (int i = 0; i < 3; i++)
        all->pieces[i] = memset(alloc_piece(&all->arena, PIECE), i + 1, PIECE);
    free_piece(&all->arena, all->pieces[1]);
    all->left = mtask_arena_left(&all->arena);
}

static void call_alloc(stage *all) {
    (void)mtask_arena_alloc(&all->arena, 64, &all->pieces[3]);
}

static void call_free(stage *all) {
    (void)mtask_arena_free(&all->arena, all->pieces[0]);
}

/* All but `lost` bytes, at most, can be had. */
static void check_arena(stage *all, size_t lost) {
    void *pieces[STAGE_SIZE / 64 + 16];
    size_t total = 0;
    int count = exhaust(&all->arena, 64, pieces, STAGE_SIZE / 64 + 16);
    ck_assert_uint_ge((size_t)count * 64 + lost, all->left);
    for (int i = 0; i < count; i++) {
        ck_assert(is_zero(pieces[i], 64));
        memset(pieces[i], 0xff, 64);
        total += 64;
    }
    ck_assert_uint_le(total, all->left + PIECE);
    ck_assert(*(char *)all->pieces[2] == 3 &&
              memcmp(all->pieces[2], (char *)all->pieces[2] + 1, PIECE - 1) == 0);
    while (count > 0)
        free_piece(&all->arena, pieces[--count]);
    ck_assert_uint_eq(mtask_arena_left(&all->arena), total);
    free_piece(&all->arena, all->pieces[2]);
    close_arena(&all->arena);
}

static void verify_alloc(stage *all) {
    check_arena(all, 64);
}

static void verify_free(stage *all) {
    mtask_status status = mtask_arena_free(&all->arena, all->pieces[0]);
    ck_assert(status == MTASK_OK || status == MTASK_INVALID);
    if (status == MTASK_OK)
        all->left += PIECE;
    check_arena(all, 0);
}

static void prepare_array(stage *all) {
    long item = 5;
    ck_assert(open_array(&all->array, 3, sizeof item));
    ck_assert_status(mtask_array_set(&all->array, 1, &item), MTASK_OK);
}

static void call_set(stage *all) {
    long item = 6;
    (void)mtask_array_set(&all->array, 1, &item);
}

static void call_lock(stage *all) {
    (void)mtask_array_lock(&all->array, MTASK_FOREVER);
    (void)mtask_array_unlock(&all->array);
}

static void verify_array(stage *all) {
    long item = 0;
    mtask_status status = mtask_array_lock(&all->array, MTASK_FOREVER);
    ck_assert(status == MTASK_OK || status == MTASK_OWNER_DEAD);
    ck_assert_status(mtask_array_unlock(&all->array), MTASK_OK);
    ck_assert_status(mtask_array_get(&all->array, 1, &item), MTASK_OK);
    ck_assert(item == 5 || item == 6);
    ck_assert_status(mtask_array_lock(&all->array, MTASK_FOREVER), MTASK_OK);
    ck_assert_status(mtask_array_unlock(&all->array), MTASK_OK);
    close_array(&all->array);
}

static void call_create(stage *all) {
    (void)mtask_shm_create(&all->shm, all->name, 64);
}

static void call_close(stage *all) {
    (void)mtask_shm_close(&all->shm);
}

static void call_unlink(stage *all) {
    (void)mtask_shm_unlink(&all->shm);
}

static void prepare_nothing(stage *all) {
    (void)all;
}

static void create_and_end(void *name) {
    mtask_shm shm;
    ck_assert_status(mtask_shm_create(&shm, (const char *)name, 64), MTASK_OK);
}

/* The name is that of a dead creator. */
static void prepare_stale_name(stage *all) {
    run_child(create_and_end, all->name);
}

static void verify_name(stage *all) {
    check_name_free(all->name);
}

enum { NO_PTRACE = 77 };

static void stop_here(void) {
    testing_check(raise(SIGTRAP) == 0);
}

static void be_stepped(const act *what, stage *all) {
    if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) != 0)
        _exit(NO_PTRACE);
    if (what->begin != NULL)
        what->begin(all);
    stop_here();
    what->call(all);
    __atomic_store_n(&all->done, 1, __ATOMIC_SEQ_CST);
    for (;;)
        stop_here();
}

/* Waits until the process stops again; false: it has ended. */
static bool await_stop(pid_t pid) {
    int status = 0;
    testing_check(waitpid(pid, &status, 0) == pid);
    if (WIFEXITED(status))
        ck_assert_int_eq(WEXITSTATUS(status), NO_PTRACE);
    else
        ck_assert_msg(WIFSTOPPED(status) && WSTOPSIG(status) == SIGTRAP, "a process did %#x",
                      (unsigned)status);
    return WIFSTOPPED(status);
}

/* Does it all in a process that is killed after so many instructions; how many it did. -1: processes
   cannot be stepped here. */
static long kill_after(const act *what, stage *all, long steps) {
    long done = 0;
    pid_t pid;
    all->done = 0;
    what->prepare(all);
    pid = fork_child();
    if (pid == 0)
        be_stepped(what, all);
    if (!await_stop(pid))
        return -1;
    for (; done < steps && __atomic_load_n(&all->done, __ATOMIC_SEQ_CST) == 0; done++) {
        testing_check(ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL) == 0);
        testing_check(await_stop(pid));
    }
    slay(pid);
    what->verify(all);
    return done;
}

/* Keeps this process and its children on one CPU: they take turns anyway, and so it is faster. */
static void stay_on_one_cpu(void) {
    cpu_set_t one;
    int cpu = sched_getcpu();
    CPU_ZERO(&one);
    CPU_SET(cpu >= 0 ? (unsigned)cpu : 0U, &one);
    (void)sched_setaffinity(0, sizeof one, &one);
}

START_TEST(who_is_killed_anywhere_in_a_call_leaves_it_whole) {
    static const act acts[] = {{"alloc", prepare_arena, NULL, call_alloc, verify_alloc},
                               {"free", prepare_arena, NULL, call_free, verify_free},
                               {"set", prepare_array, NULL, call_set, verify_array},
                               {"lock", prepare_array, NULL, call_lock, verify_array},
                               {"create", prepare_nothing, NULL, call_create, verify_name},
                               {"create again", prepare_stale_name, NULL, call_create, verify_name},
                               {"close", prepare_nothing, call_create, call_close, verify_name},
                               {"unlink", prepare_nothing, call_create, call_unlink, verify_name}};
    testing_random random = testing_random_make(testing_seed(), 0);
    stage *all = (stage *)share_memory(sizeof *all);
    if (TESTING_TSAN)
        return; /* it and ptrace do not go together */
    strcpy(all->name, block_name());
    check_name_free(all->name); /* what is done once has been done then */
    stay_on_one_cpu();
    for (size_t i = 0; i < sizeof acts / sizeof acts[0]; i++) {
        long limit = 6000; /* of the instructions of the call, until it is known */
        fprintf(stderr, "%s\n", acts[i].name);
        for (long left = testing_scale(10000), steps; left > 0; left -= steps + 50) {
            steps = kill_after(&acts[i], all, (long)testing_below(&random, (uint64_t)limit));
            if (steps < 0)
                return; /* processes cannot be stepped here */
            limit = all->done != 0 ? steps + 1 : limit;
        }
    }
}
END_TEST

/* ---- what lies in an arena ---- */

typedef struct toolbox {
    mtask_mutex mutex;
    mtask_rmutex rmutex;
    mtask_cond cond;
    mtask_sem sem;
    mtask_event event;
    mtask_barrier barrier;
    mtask_rwlock rwlock;
    mtask_shared_mutex robust;
    MTASK_QUEUE_STORAGE(storage, 4, sizeof(int));
    int turn; /* guarded by the mutex */
    int total;
} toolbox;

static void init_toolbox(toolbox *tools) {
    ck_assert_status(mtask_mutex_init(&tools->mutex, MTASK_SHARED), MTASK_OK);
    ck_assert_status(mtask_rmutex_init(&tools->rmutex, MTASK_SHARED), MTASK_OK);
    ck_assert_status(mtask_cond_init(&tools->cond, MTASK_SHARED), MTASK_OK);
    ck_assert_status(mtask_sem_init(&tools->sem, 0, 0, MTASK_SHARED), MTASK_OK);
    ck_assert_status(mtask_event_init(&tools->event, MTASK_SHARED), MTASK_OK);
    ck_assert_status(mtask_barrier_init(&tools->barrier, 2, NULL, NULL, MTASK_SHARED), MTASK_OK);
    ck_assert_status(mtask_rwlock_init(&tools->rwlock, MTASK_SHARED), MTASK_OK);
    ck_assert_status(mtask_shared_mutex_init(&tools->robust), MTASK_OK);
}

/* In both processes: takes turns by mutex and condition. */
static void take_turns_with(toolbox *tools, int player) {
    mtask_status status;
    for (int i = 0; i < 20; i++) {
        ck_assert_status(mtask_mutex_lock(&tools->mutex), MTASK_OK);
        MTASK_COND_WAIT_FOR(status, &tools->cond, &tools->mutex, MTASK_FOREVER,
                            tools->turn % 2 == player);
        ck_assert_status(status, MTASK_OK);
        tools->turn++;
        ck_assert_status(mtask_cond_notify_all(&tools->cond), MTASK_OK);
        ck_assert_status(mtask_mutex_unlock(&tools->mutex), MTASK_OK);
    }
}

/* In both: each lock guards the same number. */
static void count_with(toolbox *tools) {
    for (int i = 0; i < 200; i++) {
        ck_assert_status(mtask_rmutex_lock(&tools->rmutex), MTASK_OK);
        ck_assert_status(mtask_rwlock_lock_write(&tools->rwlock), MTASK_OK);
        ck_assert_status(mtask_shared_mutex_lock(&tools->robust), MTASK_OK);
        tools->total++;
        ck_assert_status(mtask_shared_mutex_unlock(&tools->robust), MTASK_OK);
        ck_assert_status(mtask_rwlock_unlock_write(&tools->rwlock), MTASK_OK);
        ck_assert_status(mtask_rmutex_unlock(&tools->rmutex), MTASK_OK);
    }
}

static void open_tool_queue(toolbox *tools, mtask_queue *queue, bool attach) {
    mtask_queue_desc desc = {.capacity = 4, .item_size = sizeof(int), .flags = MTASK_SHARED};
    desc.storage = tools->storage;
    desc.storage_size = sizeof tools->storage;
    ck_assert_status((attach ? mtask_queue_attach : mtask_queue_init)(queue, &desc), MTASK_OK);
}

/* The other process, which has the arena elsewhere. */
static void use_tools_there(void *arg) {
    mtask_arena arena;
    toolbox *tools;
    mtask_queue queue;
    ck_assert_status(mtask_arena_attach_fd(&arena, ((mtask_arena *)arg)->memory.fd), MTASK_OK);
    tools = (toolbox *)mtask_arena_root(&arena);
    testing_check((void *)tools != mtask_arena_root((mtask_arena *)arg));
    ck_assert_status(mtask_sem_acquire(&tools->sem, MTASK_FOREVER), MTASK_OK);
    mtask_event_set(&tools->event);
    ck_assert_status(mtask_barrier_wait(&tools->barrier, NULL, MTASK_FOREVER), MTASK_OK);
    take_turns_with(tools, 1);
    count_with(tools);
    open_tool_queue(tools, &queue, true);
    for (int i = 0; i < 100; i++)
        ck_assert_status(mtask_queue_put(&queue, &i, MTASK_FOREVER), MTASK_OK);
    ck_assert_status(mtask_queue_close(&queue), MTASK_OK);
    ck_assert_status(mtask_queue_deinit(&queue), MTASK_OK);
}

START_TEST(locks_and_queues_lie_in_an_arena) {
    mtask_arena arena;
    toolbox *tools;
    mtask_queue queue;
    pid_t pid;
    int item, expected = 0;
    if (!CAN_SHARE)
        return;
    ck_assert(open_arena(&arena, 1 << 16));
    tools = (toolbox *)alloc_piece(&arena, sizeof *tools);
    init_toolbox(tools);
    open_tool_queue(tools, &queue, false);
    mtask_arena_set_root(&arena, tools);
    pid = start_plain(use_tools_there, &arena);
    ck_assert_status(mtask_event_wait(&tools->event, MTASK_MS(5)), MTASK_TIMEOUT);
    ck_assert_status(mtask_sem_release(&tools->sem, 1), MTASK_OK);
    ck_assert_status(mtask_event_wait(&tools->event, MTASK_FOREVER), MTASK_OK);
    ck_assert_status(mtask_barrier_wait(&tools->barrier, NULL, MTASK_FOREVER), MTASK_OK);
    take_turns_with(tools, 0);
    count_with(tools);
    while (mtask_queue_get(&queue, &item, MTASK_FOREVER) == MTASK_OK)
        ck_assert_int_eq(item, expected++);
    ck_assert_int_eq(expected, 100);
    reap(pid);
    ck_assert_int_eq(tools->turn, 40);
    ck_assert_int_eq(tools->total, 400);
    ck_assert_status(mtask_queue_deinit(&queue), MTASK_OK);
    free_piece(&arena, tools);
    close_arena(&arena);
}
END_TEST

TESTING_MAIN("shm", a_block_has_its_size_and_is_zeroed, memory_is_taken_as_it_is_used,
             what_cannot_be_made_is_refused, names_are_of_letters_digits_and_signs,
             a_closed_block_is_closed, a_forked_child_has_it_at_the_same_address,
             processes_find_it_by_its_name, a_descriptor_will_do,
             descriptors_of_something_else_are_refused, a_name_is_taken_while_its_creator_has_it,
             only_its_creator_takes_a_name_away, who_lost_a_name_does_not_take_the_next_one_away,
             children_and_attachers_do_not_take_it_away, the_name_goes_with_a_killed_creator,
             a_dead_creators_name_is_free, a_child_of_the_creator_does_not_keep_the_name,
             of_several_one_gets_a_name, users_have_names_of_their_own, an_array_holds_its_items,
             items_are_got_and_set, arrays_that_cannot_be_are_refused, what_is_no_array_is_refused,
             an_arrays_lock_knows_its_owner, a_locked_array_keeps_others_out,
             an_arrays_lock_excludes_processes, an_owner_that_was_killed_is_told_of_once,
             who_waits_is_told_that_the_owner_was_killed, tasks_of_a_loop_wait_for_it,
             other_processes_attach_an_array, pieces_are_zeroed_aligned_and_apart,
             an_arena_can_be_full_and_used_again, pieces_given_back_serve_other_sizes,
             pieces_that_cannot_be_had_or_given_are_refused,
             a_piece_that_was_given_back_and_merged_is_refused, arenas_that_cannot_be_are_refused,
             a_piece_is_found_in_another_mapping, processes_take_pieces_at_once,
             users_of_an_arena_are_killed, who_is_killed_anywhere_in_a_call_leaves_it_whole,
             locks_and_queues_lie_in_an_arena)
