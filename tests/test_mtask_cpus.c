/* test_mtask_cpus.c - mtask_cpu_count with cgroups that the test makes up
// standalone: it holds the implementation itself, which looks for its cgroups in the current folder
   and is told of eight CPUs. */
#define _GNU_SOURCE 1
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static unsigned long pretended = 0xff; /* the CPUs that the process may use */

/* Answers the question for the affinity; passes on all the rest. */
static long fake_syscall(long number, ...) {
    long a[6];
    va_list args;
    va_start(args, number);
    for (int i = 0; i < 6; i++)
        a[i] = va_arg(args, long);
    va_end(args);
    if (number == SYS_sched_getaffinity) {
        memcpy((void *)a[2], &pretended, sizeof pretended);
        return (long)sizeof pretended;
    }
    return syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

#define MTASK__CGROUP_ROOT "cgroup"
#define MTASK__PROC_CGROUP "self-cgroup"
#define syscall            fake_syscall
#define MTASK_IMPLEMENTATION
#include "../mtask.h"
#undef syscall

#include "testing.h"

/* ---- helpers ---- */

static char folder[] = "/tmp/mtask-cpus-XXXXXX";

static void enter_new_folder(void) {
    ck_assert_ptr_nonnull(mkdtemp(folder));
    ck_assert_int_eq(chdir(folder), 0);
}

static void leave_folder(void) {
    char command[64];
    ck_assert_int_eq(chdir("/"), 0);
    snprintf(command, sizeof command, "rm -rf %s", folder);
    ck_assert_int_eq(system(command), 0);
}

/* Writes a file, making the folders on the way. */
static void write_file(const char *path, const char *text) {
    char part[256];
    FILE *file;
    for (size_t i = 0; path[i] != 0; i++) {
        part[i] = 0;
        if (path[i] == '/')
            ck_assert(mkdir(part, 0755) == 0 || errno == EEXIST);
        part[i] = path[i];
    }
    file = fopen(path, "w");
    ck_assert_ptr_nonnull(file);
    ck_assert_int_ge(fputs(text, file), 0);
    ck_assert_int_eq(fclose(file), 0);
}

/* Checks what mtask says when `path` has the quota `text`. */
static void check_quota(const char *path, const char *text, unsigned expected) {
    unsigned cpus;
    write_file(path, text);
    cpus = mtask_cpu_count(); /* it reads the system each time */
    ck_assert_msg(cpus == expected, "%u CPUs, not %u, for '%s'", cpus, expected, text);
}

/* A quota of version 1: two files. */
static void check_quota_1(const char *group, const char *quota, const char *period,
                          unsigned expected) {
    char path[256];
    snprintf(path, sizeof path, "%s/cpu.cfs_period_us", group);
    write_file(path, period);
    snprintf(path, sizeof path, "%s/cpu.cfs_quota_us", group);
    check_quota(path, quota, expected);
}

/* ---- tests ---- */

START_TEST(without_cgroups_all_cpus_count) {
    ck_assert_uint_eq(mtask_cpu_count(), 8);
    write_file("self-cgroup", "");
    ck_assert_uint_eq(mtask_cpu_count(), 8);
    write_file("self-cgroup", "0::/app\n");
    ck_assert_uint_eq(mtask_cpu_count(), 8);
    pretended = 0x5;
    ck_assert_uint_eq(mtask_cpu_count(), 2);
}
END_TEST

START_TEST(a_quota_is_rounded_up_to_whole_cpus) {
    write_file("self-cgroup", "0::/app\n");
    check_quota("cgroup/app/cpu.max", "200000 100000\n", 2);
    check_quota("cgroup/app/cpu.max", "200001 100000\n", 3);
    check_quota("cgroup/app/cpu.max", "150000 100000\n", 2);
    check_quota("cgroup/app/cpu.max", "100000 50000\n", 2);
    check_quota("cgroup/app/cpu.max", "1000 100000\n", 1);
}
END_TEST

START_TEST(no_quota_and_a_large_one_leave_the_affinity) {
    write_file("self-cgroup", "0::/app\n");
    check_quota("cgroup/app/cpu.max", "max 100000\n", 8);
    check_quota("cgroup/app/cpu.max", "800000 100000\n", 8);
    check_quota("cgroup/app/cpu.max", "6400000 100000\n", 8);
}
END_TEST

START_TEST(the_affinity_counts_if_it_is_the_smaller) {
    write_file("self-cgroup", "0::/app\n");
    pretended = 0x8;
    check_quota("cgroup/app/cpu.max", "400000 100000\n", 1);
    pretended = 0xf0f;
    check_quota("cgroup/app/cpu.max", "700000 100000\n", 7);
    check_quota("cgroup/app/cpu.max", "900000 100000\n", 8);
}
END_TEST

START_TEST(a_group_has_no_more_than_its_parents) {
    write_file("self-cgroup", "0::/a/b/c\n");
    check_quota("cgroup/a/b/c/cpu.max", "500000 100000\n", 5);
    check_quota("cgroup/a/b/cpu.max", "max 100000\n", 5);
    check_quota("cgroup/a/cpu.max", "300000 100000\n", 3);
    check_quota("cgroup/a/b/c/cpu.max", "max 100000\n", 3);
    check_quota("cgroup/a/cpu.max", "600000 100000\n", 6);
    check_quota("cgroup/a/b/cpu.max", "100000 100000\n", 1);
}
END_TEST

START_TEST(a_group_at_the_root_has_the_roots_quota) {
    write_file("self-cgroup", "0::/\n"); /* in a container that sees only itself */
    check_quota("cgroup/cpu.max", "400000 100000\n", 4);
    write_file("self-cgroup", "0::/"); /* without newline */
    check_quota("cgroup/cpu.max", "300000 100000\n", 3);
    write_file("self-cgroup", "0::/not/to/be/seen/from/here\n");
    check_quota("cgroup/cpu.max", "200000 100000\n", 2);
}
END_TEST

START_TEST(version_1_has_its_own_files) {
    write_file("self-cgroup", "9:name=systemd:/\n4:memory:/other\n3:cpu:/app\n2:cpuset:/\n");
    check_quota_1("cgroup/cpu/app", "250000\n", "100000\n", 3);
    check_quota_1("cgroup/cpu/app", "50000\n", "100000\n", 1);
    check_quota_1("cgroup/cpu/app", "-1\n", "100000\n", 8);
    check_quota_1("cgroup/cpu", "200000\n", "100000\n", 2); /* its parent */
}
END_TEST

START_TEST(version_1_may_mount_cpu_together_with_others) {
    static const char *const lines[] = {"4:cpu,cpuacct:/app\n", "4:cpuacct,cpu:/app\n",
                                        "12:cpuset,cpu,cpuacct:/app\n0::/\n"};
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        write_file("self-cgroup", lines[i]);
        check_quota_1("cgroup/cpu/app", "300000\n", "100000\n", 3);
    }
}
END_TEST

START_TEST(other_controllers_of_version_1_do_not_count) {
    write_file("self-cgroup", "5:cpuset:/app\n6:cpuacct:/app\n7:name=cpu:/app\n8:mycpu:/app\n");
    check_quota_1("cgroup/cpu/app", "100000\n", "100000\n", 8);
}
END_TEST

START_TEST(with_both_versions_the_smaller_quota_counts) {
    write_file("self-cgroup", "4:cpu,cpuacct:/one\n0::/two\n");
    check_quota_1("cgroup/cpu/one", "500000\n", "100000\n", 5);
    check_quota("cgroup/two/cpu.max", "300000 100000\n", 3);
    check_quota_1("cgroup/cpu/one", "200000\n", "100000\n", 2);
}
END_TEST

START_TEST(nonsense_is_no_quota) {
    write_file("self-cgroup", "0::/app\n");
    check_quota("cgroup/app/cpu.max", "", 8);
    check_quota("cgroup/app/cpu.max", "\n", 8);
    check_quota("cgroup/app/cpu.max", "many 100000\n", 8);
    check_quota("cgroup/app/cpu.max", "200000 0\n", 8);
    check_quota("cgroup/app/cpu.max", "0 100000\n", 8);
    check_quota("cgroup/app/cpu.max", "-200000 100000\n", 8);
    check_quota("cgroup/app/cpu.max", "200000 -100000\n", 8);
    write_file("self-cgroup", "nonsense\n\n:\n::\n4:cpu\n:0::/x\n");
    ck_assert_uint_eq(mtask_cpu_count(), 8);
}
END_TEST

START_TEST(a_path_that_is_too_long_does_no_harm) {
    char text[4000];
    memset(text, 'p', sizeof text);
    memcpy(text, "0::/", 4);
    text[sizeof text - 1] = 0;
    check_quota("self-cgroup", text, 8);
    for (size_t i = 10; i < sizeof text - 1; i += 10)
        text[i] = '/';
    check_quota("self-cgroup", text, 8);
}
END_TEST

int main(void) {
    const TTest *const tests[] = {without_cgroups_all_cpus_count,
                                  a_quota_is_rounded_up_to_whole_cpus,
                                  no_quota_and_a_large_one_leave_the_affinity,
                                  the_affinity_counts_if_it_is_the_smaller,
                                  a_group_has_no_more_than_its_parents,
                                  a_group_at_the_root_has_the_roots_quota,
                                  version_1_has_its_own_files,
                                  version_1_may_mount_cpu_together_with_others,
                                  other_controllers_of_version_1_do_not_count,
                                  with_both_versions_the_smaller_quota_counts,
                                  nonsense_is_no_quota,
                                  a_path_that_is_too_long_does_no_harm};
    Suite *suite = suite_create("cpus");
    TCase *tcase = tcase_create("cpus");
    tcase_set_timeout(tcase, TEST_TIMEOUT);
    tcase_add_checked_fixture(tcase, enter_new_folder, leave_folder);
    for (size_t i = 0; i < sizeof tests / sizeof tests[0]; i++)
        tcase_add_test(tcase, tests[i]);
    suite_add_tcase(suite, tcase);
    return testing_main(suite);
}
