/* test_mtask_status.c - the names and texts of statuses, and how times are written */
#include "testing.h"

#include <string.h>

static const struct {
    mtask_status status;
    const char *name;
    const char *text;
} statuses[] = {
#define AS_ROW(name, text) {name, #name, text},
    MTASK_STATUSES(AS_ROW)
#undef AS_ROW
};

START_TEST(ok_is_zero_and_the_statuses_have_their_settled_order) {
    static const char *const settled[] = {
        "MTASK_OK",        "MTASK_FAILED",   "MTASK_DONE",        "MTASK_FULL",
        "MTASK_EMPTY",     "MTASK_TIMEOUT",  "MTASK_CLOSED",      "MTASK_CANCELED",
        "MTASK_BROKEN",    "MTASK_CRASHED",  "MTASK_OWNER_DEAD",  "MTASK_NOT_OWNER",
        "MTASK_NOT_FOUND", "MTASK_DEADLOCK", "MTASK_OVERFLOW",    "MTASK_INVALID",
        "MTASK_NOMEM",     "MTASK_AUTH",     "MTASK_UNSUPPORTED", "MTASK_SYSTEM"};
    ck_assert_int_eq(MTASK_OK, 0);
    ck_assert_uint_eq(MTASK_STATUS_COUNT, sizeof settled / sizeof settled[0]);
    for (int i = 0; i < MTASK_STATUS_COUNT; i++)
        ck_assert_str_eq(mtask_status_name((mtask_status)i), settled[i]);
}
END_TEST

START_TEST(every_status_has_the_name_and_the_text_of_the_list) {
    ck_assert_uint_eq(sizeof statuses / sizeof statuses[0], MTASK_STATUS_COUNT);
    for (size_t i = 0; i < MTASK_STATUS_COUNT; i++) {
        ck_assert_uint_eq(statuses[i].status, i);
        ck_assert_str_eq(mtask_status_name(statuses[i].status), statuses[i].name);
        ck_assert_str_eq(mtask_strerror(statuses[i].status), statuses[i].text);
    }
}
END_TEST

START_TEST(no_two_statuses_share_a_name_or_a_text) {
    for (size_t i = 0; i < MTASK_STATUS_COUNT; i++) {
        ck_assert_uint_gt(strlen(statuses[i].text), 0);
        for (size_t k = 0; k < i; k++) {
            ck_assert_str_ne(statuses[i].name, statuses[k].name);
            ck_assert_str_ne(statuses[i].text, statuses[k].text);
        }
    }
}
END_TEST

START_TEST(a_number_that_is_no_status_is_named_so) {
    const int numbers[] = {-1,   MTASK_STATUS_COUNT, MTASK_STATUS_COUNT + 1,
                           1000, INT32_MAX,          INT32_MIN};
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        ck_assert_str_eq(mtask_status_name((mtask_status)numbers[i]), "MTASK_?");
        ck_assert_ptr_nonnull(mtask_strerror((mtask_status)numbers[i]));
        ck_assert_uint_gt(strlen(mtask_strerror((mtask_status)numbers[i])), 0);
    }
}
END_TEST

START_TEST(times_are_nanoseconds_in_64_bits) {
    int minute = 60000;
    ck_assert_int_eq(MTASK_NOWAIT, 0);
    ck_assert_int_eq(MTASK_FOREVER, INT64_MAX);
    ck_assert_int_eq(MTASK_US(3), 3000);
    ck_assert_int_eq(MTASK_MS(20), 20000000);
    ck_assert_int_eq(MTASK_MS(minute), INT64_C(60000000000)); /* an int does not hold it */
    ck_assert_int_eq(MTASK_SEC(minute), INT64_C(60000000000000));
    ck_assert_uint_eq(sizeof(MTASK_US(1)), 8);
}
END_TEST

START_TEST(a_deadline_is_the_end_of_a_timeout) {
    int64_t before = mtask_now();
    int64_t deadline = mtask_deadline(MTASK_SEC(1000));
    int64_t after = mtask_now();
    ck_assert_int_ge(deadline, before + MTASK_SEC(1000));
    ck_assert_int_le(deadline, after + MTASK_SEC(1000));
    ck_assert_int_gt(mtask_until(deadline), 0);
    ck_assert_int_le(mtask_until(deadline), MTASK_SEC(1000));
}
END_TEST

START_TEST(deadlines_know_forever_and_the_past) {
    ck_assert_int_eq(mtask_deadline(MTASK_FOREVER), MTASK_FOREVER);
    ck_assert_int_eq(mtask_deadline(MTASK_FOREVER - 1), MTASK_FOREVER); /* would not fit */
    ck_assert_int_eq(mtask_deadline(-1), -1);
    ck_assert_int_eq(mtask_deadline(INT64_MIN), -1);
    ck_assert_int_eq(mtask_until(MTASK_FOREVER), MTASK_FOREVER);
    ck_assert_int_eq(mtask_until(mtask_now()), 0);
    ck_assert_int_eq(mtask_until(0), 0);
    ck_assert_int_eq(mtask_until(-1), 0);
}
END_TEST

TESTING_MAIN("status", ok_is_zero_and_the_statuses_have_their_settled_order,
             every_status_has_the_name_and_the_text_of_the_list,
             no_two_statuses_share_a_name_or_a_text, a_number_that_is_no_status_is_named_so,
             times_are_nanoseconds_in_64_bits, a_deadline_is_the_end_of_a_timeout,
             deadlines_know_forever_and_the_past)
