/* test_mtask_local.c - values of which each thread has its own, and their destructors */
#include "testing.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>

/* ---- helpers ---- */

static mtask_local local; /* the one under test; each test runs in a process of its own */
static mtask_word destroyed;
static void *last_destroyed;
static int values[8];

static void count_destroyed(void *value) {
    last_destroyed = value;
    mtask_word_add(&destroyed, 1);
}

/* Runs fn(arg) in a thread, from start to join. */
static void run_in_thread(mtask_fn fn, void *arg) {
    mtask_thread thread = {0};
    ck_assert_status(mtask_thread_start(&thread, fn, arg), MTASK_OK);
    ck_assert_status(mtask_thread_join(&thread, NULL, MTASK_FOREVER), MTASK_OK);
}

static void *set_value(void *arg) {
    testing_check(mtask_local_get(&local) == NULL);
    ck_assert_status(mtask_local_set(&local, arg), MTASK_OK);
    testing_check(mtask_local_get(&local) == arg);
    return NULL;
}

/* ---- tests ---- */

START_TEST(a_value_is_null_at_first_and_then_what_was_set) {
    ck_assert_status(mtask_local_init(&local, NULL), MTASK_OK);
    ck_assert_ptr_null(mtask_local_get(&local));
    ck_assert_status(mtask_local_set(&local, &values[0]), MTASK_OK);
    ck_assert_ptr_eq(mtask_local_get(&local), &values[0]);
    ck_assert_status(mtask_local_set(&local, &values[1]), MTASK_OK);
    ck_assert_ptr_eq(mtask_local_get(&local), &values[1]);
    ck_assert_status(mtask_local_set(&local, NULL), MTASK_OK);
    ck_assert_ptr_null(mtask_local_get(&local));
    ck_assert_status(mtask_local_deinit(&local), MTASK_OK);
}
END_TEST

static mtask_barrier everybody;

static void *keep_my_own(void *arg) {
    set_value(arg);
    ck_assert_status(mtask_barrier_wait(&everybody, NULL, MTASK_FOREVER), MTASK_OK);
    testing_check(mtask_local_get(&local) == arg); /* though all others have set theirs */
    return NULL;
}

START_TEST(each_thread_has_its_own_value) {
    mtask_thread threads[4] = {0};
    ck_assert_status(mtask_barrier_init(&everybody, 4, NULL, NULL, 0), MTASK_OK);
    ck_assert_status(mtask_local_init(&local, NULL), MTASK_OK);
    ck_assert_status(mtask_local_set(&local, &values[7]), MTASK_OK);
    for (int i = 0; i < 4; i++)
        ck_assert_status(mtask_thread_start(&threads[i], keep_my_own, &values[i]), MTASK_OK);
    for (int i = 0; i < 4; i++)
        ck_assert_status(mtask_thread_join(&threads[i], NULL, MTASK_FOREVER), MTASK_OK);
    ck_assert_ptr_eq(mtask_local_get(&local), &values[7]);
    ck_assert_status(mtask_local_deinit(&local), MTASK_OK);
}
END_TEST

START_TEST(the_destructor_has_run_when_join_returns) {
    ck_assert_status(mtask_local_init(&local, count_destroyed), MTASK_OK);
    for (mtask_word i = 0; i < 20; i++) {
        run_in_thread(set_value, &values[i % 8]);
        ck_assert_uint_eq(mtask_word_load(&destroyed), i + 1);
        ck_assert_ptr_eq(last_destroyed, &values[i % 8]);
    }
    ck_assert_status(mtask_local_deinit(&local), MTASK_OK);
}
END_TEST

START_TEST(the_destructor_has_run_when_join_all_returns) {
    ck_assert_status(mtask_local_init(&local, count_destroyed), MTASK_OK);
    for (mtask_word i = 0; i < 20; i++) {
        ck_assert_status(mtask_thread_spawn(set_value, &values[0]), MTASK_OK);
        ck_assert_status(mtask_thread_join_all(MTASK_FOREVER), MTASK_OK);
        ck_assert_uint_eq(mtask_word_load(&destroyed), i + 1);
    }
    ck_assert_status(mtask_local_deinit(&local), MTASK_OK);
}
END_TEST

static mtask_thread with_value;
static mtask_event leave;

static void *set_and_wait(void *arg) {
    set_value(arg);
    ck_assert_status(mtask_event_wait(&leave, MTASK_FOREVER), MTASK_OK);
    return NULL;
}

static void destroy_slowly(void *value) {
    ck_assert_status(mtask_sleep(MTASK_MS(5)), MTASK_OK);
    count_destroyed(value);
}

static void *join_and_look(void *arg) {
    ck_assert_status(mtask_thread_join(&with_value, NULL, MTASK_FOREVER), MTASK_OK);
    testing_check(mtask_word_load(&destroyed) == 1);
    return arg;
}

START_TEST(the_destructor_has_run_when_any_of_several_joins_returns) {
    mtask_thread joiners[3] = {0};
    ck_assert_status(mtask_local_init(&local, destroy_slowly), MTASK_OK);
    ck_assert_status(mtask_thread_start(&with_value, set_and_wait, &values[0]), MTASK_OK);
    for (int i = 0; i < 3; i++)
        ck_assert_status(mtask_thread_start(&joiners[i], join_and_look, NULL), MTASK_OK);
    ck_assert_status(mtask_sleep(MTASK_MS(3)), MTASK_OK); /* let some of them wait */
    mtask_event_set(&leave);
    for (int i = 0; i < 3; i++)
        ck_assert_status(mtask_thread_join(&joiners[i], NULL, MTASK_FOREVER), MTASK_OK);
    ck_assert_status(mtask_local_deinit(&local), MTASK_OK);
}
END_TEST

static void *set_and_take_back(void *arg) {
    set_value(arg);
    ck_assert_status(mtask_local_set(&local, NULL), MTASK_OK);
    return NULL;
}

static void *set_two_in_turn(void *arg) {
    set_value(arg);
    ck_assert_status(mtask_local_set(&local, &values[1]), MTASK_OK);
    return NULL;
}

static void *set_nothing(void *arg) {
    testing_check(mtask_local_get(&local) == NULL);
    return arg;
}

START_TEST(only_the_last_value_is_destroyed_and_null_never) {
    ck_assert_status(mtask_local_init(&local, count_destroyed), MTASK_OK);
    run_in_thread(set_nothing, NULL);
    run_in_thread(set_and_take_back, &values[0]);
    ck_assert_uint_eq(mtask_word_load(&destroyed), 0);
    run_in_thread(set_two_in_turn, &values[0]);
    ck_assert_uint_eq(mtask_word_load(&destroyed), 1);
    ck_assert_ptr_eq(last_destroyed, &values[1]);
    ck_assert_status(mtask_local_deinit(&local), MTASK_OK);
}
END_TEST

static uint64_t destroyed_by;

static void note_who_destroys(void *value) {
    (void)value;
    destroyed_by = mtask_task_id();
}

static void *set_and_tell_id(void *arg) {
    set_value(arg);
    *(uint64_t *)arg = mtask_task_id();
    return NULL;
}

START_TEST(the_destructor_runs_in_the_thread_that_ends) {
    uint64_t id = 0;
    ck_assert_status(mtask_local_init(&local, note_who_destroys), MTASK_OK);
    run_in_thread(set_and_tell_id, &id);
    ck_assert_uint_ne(id, 0);
    ck_assert_uint_eq(destroyed_by, id);
    ck_assert_uint_eq(mtask_thread_active_count(), 1);
    ck_assert_status(mtask_local_deinit(&local), MTASK_OK);
}
END_TEST

START_TEST(a_foreign_thread_has_values_and_destructors_too) {
    pthread_t thread;
    uint64_t id = 0;
    ck_assert_status(mtask_local_init(&local, count_destroyed), MTASK_OK);
    ck_assert_int_eq(pthread_create(&thread, NULL, set_value, &values[2]), 0);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    ck_assert_uint_eq(mtask_word_load(&destroyed), 1);
    ck_assert_ptr_eq(last_destroyed, &values[2]);
    ck_assert_status(mtask_local_deinit(&local), MTASK_OK);
    ck_assert_status(mtask_local_init(&local, note_who_destroys), MTASK_OK);
    ck_assert_int_eq(pthread_create(&thread, NULL, set_and_tell_id, &id), 0);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    ck_assert_uint_ne(destroyed_by, 0);
    /* Its destructor used mtask, perhaps after mtask had let go of the thread: no ghost is left. */
    ck_assert_uint_eq(mtask_thread_active_count(), 1);
    ck_assert_status(mtask_local_deinit(&local), MTASK_OK);
}
END_TEST

static void *set_and_fail(void *arg) {
    set_value(arg);
    return mtask_fail(MTASK_BROKEN, NULL);
}

START_TEST(a_thread_that_fails_has_its_values_destroyed) {
    mtask_thread thread = {0};
    ck_assert_status(mtask_local_init(&local, count_destroyed), MTASK_OK);
    ck_assert_status(mtask_thread_start(&thread, set_and_fail, &values[0]), MTASK_OK);
    ck_assert_status(mtask_thread_join(&thread, NULL, MTASK_FOREVER), MTASK_FAILED);
    ck_assert_uint_eq(mtask_word_load(&destroyed), 1);
    ck_assert_status(mtask_local_deinit(&local), MTASK_OK);
}
END_TEST

START_TEST(a_local_that_is_not_initialised_is_refused) {
    ck_assert_ptr_null(mtask_local_get(&local));
    ck_assert_status(mtask_local_set(&local, &values[0]), MTASK_INVALID);
    ck_assert_ptr_null(mtask_local_get(&local));
    ck_assert_status(mtask_local_deinit(&local), MTASK_INVALID);
}
END_TEST

START_TEST(a_local_is_initialised_once) {
    ck_assert_status(mtask_local_init(&local, NULL), MTASK_OK);
    ck_assert_status(mtask_local_set(&local, &values[0]), MTASK_OK);
    ck_assert_status(mtask_local_init(&local, NULL), MTASK_INVALID);
    ck_assert_ptr_eq(mtask_local_get(&local), &values[0]);
    ck_assert_status(mtask_local_deinit(&local), MTASK_OK);
    ck_assert_status(mtask_local_deinit(&local), MTASK_INVALID);
    ck_assert_status(mtask_local_set(&local, &values[0]), MTASK_INVALID);
    ck_assert_ptr_null(mtask_local_get(&local));
}
END_TEST

START_TEST(deinit_destroys_no_value_and_a_new_local_begins_empty) {
    mtask_local other = {0};
    ck_assert_status(mtask_local_init(&local, count_destroyed), MTASK_OK);
    ck_assert_status(mtask_local_set(&local, &values[0]), MTASK_OK);
    ck_assert_status(mtask_local_deinit(&local), MTASK_OK);
    ck_assert_uint_eq(mtask_word_load(&destroyed), 0);
    ck_assert_status(mtask_local_init(&other, count_destroyed), MTASK_OK);
    ck_assert_ptr_null(mtask_local_get(&other)); /* though it may have the same key */
    ck_assert_status(mtask_local_init(&local, NULL), MTASK_OK);
    ck_assert_ptr_null(mtask_local_get(&local));
    ck_assert_status(mtask_local_deinit(&local), MTASK_OK);
    ck_assert_status(mtask_local_deinit(&other), MTASK_OK);
}
END_TEST

enum { MANY = 100 };
static mtask_local many[MANY];
static int many_values[MANY];
static mtask_word many_destroyed[MANY];

static void count_which(void *value) {
    mtask_word_add(&many_destroyed[(int *)value - many_values], 1);
}

static void *set_many(void *arg) {
    for (int i = 0; i < MANY; i++)
        ck_assert_status(mtask_local_set(&many[i], &many_values[i]), MTASK_OK);
    for (int i = 0; i < MANY; i++)
        testing_check(mtask_local_get(&many[i]) == &many_values[i]);
    return arg;
}

START_TEST(many_locals_do_not_mix) {
    for (int i = 0; i < MANY; i++)
        ck_assert_status(mtask_local_init(&many[i], count_which), MTASK_OK);
    run_in_thread(set_many, NULL);
    for (int i = 0; i < MANY; i++) {
        ck_assert_ptr_null(mtask_local_get(&many[i]));
        ck_assert_uint_eq(mtask_word_load(&many_destroyed[i]), 1);
        ck_assert_status(mtask_local_deinit(&many[i]), MTASK_OK);
    }
}
END_TEST

enum { TOO_MANY = 4000 };

/* Makes as many as there may be; how many that is. */
static int use_all_keys(mtask_local *locals) {
    for (int i = 0; i < TOO_MANY; i++) {
        mtask_status status;
        errno = 0;
        status = mtask_local_init(&locals[i], NULL);
        if (status == MTASK_OK)
            continue;
        ck_assert_status(status, MTASK_SYSTEM);
        ck_assert_int_eq(errno, EAGAIN);
        ck_assert_status(mtask_local_set(&locals[i], &values[0]), MTASK_INVALID);
        return i;
    }
    return TOO_MANY;
}

START_TEST(keys_run_out_with_a_status_and_come_back) {
    static mtask_local locals[TOO_MANY];
    int first, second;
    run_in_thread(set_nothing, NULL); /* mtask takes what keys it needs for itself */
    first = use_all_keys(locals);
    ck_assert_int_ge(first, 64);
    run_in_thread(set_nothing, NULL); /* threads go on without another key */
    for (int i = 0; i < first; i++)
        ck_assert_status(mtask_local_deinit(&locals[i]), MTASK_OK);
    second = use_all_keys(locals);
    ck_assert_int_eq(second, first);
    for (int i = 0; i < second; i++)
        ck_assert_status(mtask_local_deinit(&locals[i]), MTASK_OK);
}
END_TEST

static void *set_in_a_loop(void *arg) {
    uintptr_t index = (uintptr_t)arg;
    for (long i = testing_scale(2000); i > 0; i--) {
        mtask_local own = {0};
        ck_assert_status(mtask_local_init(&own, NULL), MTASK_OK);
        testing_check(mtask_local_get(&own) == NULL);
        ck_assert_status(mtask_local_set(&own, &values[index]), MTASK_OK);
        testing_check(mtask_local_get(&own) == &values[index]);
        ck_assert_status(mtask_local_deinit(&own), MTASK_OK);
    }
    return NULL;
}

START_TEST(threads_make_and_drop_locals_at_the_same_time) {
    mtask_thread threads[4] = {0};
    for (uintptr_t i = 0; i < 4; i++)
        ck_assert_status(mtask_thread_start(&threads[i], set_in_a_loop, (void *)i), MTASK_OK);
    for (int i = 0; i < 4; i++)
        ck_assert_status(mtask_thread_join(&threads[i], NULL, MTASK_FOREVER), MTASK_OK);
}
END_TEST

TESTING_MAIN("local", a_value_is_null_at_first_and_then_what_was_set, each_thread_has_its_own_value,
             the_destructor_has_run_when_join_returns, the_destructor_has_run_when_join_all_returns,
             the_destructor_has_run_when_any_of_several_joins_returns,
             only_the_last_value_is_destroyed_and_null_never,
             the_destructor_runs_in_the_thread_that_ends,
             a_foreign_thread_has_values_and_destructors_too,
             a_thread_that_fails_has_its_values_destroyed,
             a_local_that_is_not_initialised_is_refused, a_local_is_initialised_once,
             deinit_destroys_no_value_and_a_new_local_begins_empty, many_locals_do_not_mix,
             keys_run_out_with_a_status_and_come_back,
             threads_make_and_drop_locals_at_the_same_time)
