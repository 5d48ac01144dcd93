// use_cpp.cpp - a C++ program that uses mtask.h: objects made by {}, guards with exceptions,
// threads, futures, timers, beside std::thread; config_cpp.sh compiles it as C++11, 14, 17, 20
#include "../mtask.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <thread>
#include <vector>

#define CHECK(condition)                                                                           \
 ((condition) ? (void)0                                                                            \
              : (std::fprintf(stderr, "line %d: %s\n", __LINE__, #condition), std::exit(1)))

namespace {

void throw_if(bool really) {
    if (really)
        throw std::runtime_error("thrown through a guard");
}

// Whether `fn`, which is to leave its scope by an exception, does.
template <typename Fn> bool throws(Fn fn) {
    try {
        fn();
    } catch (const std::runtime_error &) {
        return true;
    }
    return false;
}

void zero_is_ready() {
    mtask_mutex mutex = {};
    mtask_rmutex rmutex = {};
    mtask_cond cond = {};
    mtask_sem sem = {};
    mtask_event event = {};
    mtask_rwlock rwlock = {};
    mtask_waitgroup group = {};
    mtask_once_flag once = {};
    CHECK(mtask_mutex_lock(&mutex) == MTASK_OK && mtask_mutex_unlock(&mutex) == MTASK_OK);
    CHECK(mtask_rmutex_lock(&rmutex) == MTASK_OK && mtask_rmutex_unlock(&rmutex) == MTASK_OK);
    CHECK(mtask_cond_notify_all(&cond) == MTASK_OK);
    CHECK(mtask_sem_acquire(&sem, MTASK_NOWAIT) == MTASK_TIMEOUT);
    CHECK(mtask_event_wait(&event, MTASK_NOWAIT) == MTASK_TIMEOUT);
    CHECK(mtask_rwlock_lock_read(&rwlock) == MTASK_OK);
    CHECK(mtask_rwlock_unlock_read(&rwlock) == MTASK_OK);
    CHECK(mtask_waitgroup_wait(&group, MTASK_NOWAIT) == MTASK_OK);
    CHECK(!mtask_once_is_done(&once));
}

void guards_unlock_when_thrown_through() {
    mtask_mutex mutex = {};
    mtask_rmutex rmutex = {};
    mtask_sem sem = {};
    mtask_rwlock rwlock = {};
    CHECK(mtask_sem_release(&sem, 1) == MTASK_OK);
    CHECK(throws([&] {
        MTASK_GUARD(&mutex);
        MTASK_GUARD(&rmutex);
        MTASK_GUARD(&sem);
        MTASK_GUARD_READ(&rwlock);
        CHECK(mtask_mutex_is_locked(&mutex) && mtask_rmutex_is_locked(&rmutex));
        CHECK(mtask_sem_value(&sem) == 0);
        CHECK(mtask_rwlock_lock_write_for(&rwlock, MTASK_NOWAIT) == MTASK_TIMEOUT);
        throw_if(true);
    }));
    CHECK(!mtask_mutex_is_locked(&mutex) && !mtask_rmutex_is_locked(&rmutex));
    CHECK(mtask_sem_value(&sem) == 1);
    CHECK(throws([&] {
        MTASK_GUARD_WRITE(&rwlock);
        CHECK(mtask_rwlock_lock_read_for(&rwlock, MTASK_NOWAIT) == MTASK_TIMEOUT);
        throw_if(true);
    }));
    CHECK(mtask_rwlock_lock_write_for(&rwlock, MTASK_NOWAIT) == MTASK_OK);
    CHECK(mtask_rwlock_unlock_write(&rwlock) == MTASK_OK);
}

int return_from_with(mtask_mutex *mutex) {
    MTASK_WITH(mutex) {
        if (mtask_mutex_is_locked(mutex))
            return 5;
    }
    return 0;
}

void with_is_left_on_every_way() {
    mtask_mutex outer = {};
    mtask_rwlock rwlock = {};
    int runs = 0;
    CHECK(throws([&] {
        MTASK_WITH(&outer) {
            CHECK(mtask_mutex_is_locked(&outer));
            throw_if(true);
        }
    }));
    CHECK(!mtask_mutex_is_locked(&outer));
    CHECK(return_from_with(&outer) == 5 && !mtask_mutex_is_locked(&outer));
    MTASK_WITH(&outer) {
        MTASK_WITH_WRITE(&rwlock) {
            runs++;
            break;
        }
        CHECK(mtask_mutex_is_locked(&outer));
        MTASK_WITH_READ(&rwlock) {
            runs++;
            continue;
        }
        runs++;
    }
    CHECK(runs == 3 && !mtask_mutex_is_locked(&outer));
    CHECK(mtask_rwlock_lock_write_for(&rwlock, MTASK_NOWAIT) == MTASK_OK);
}

void with_skips_its_block_when_locking_fails() {
    mtask_rmutex full = {};
    int runs = 0;
    CHECK(mtask_rmutex_lock(&full) == MTASK_OK);
    full.count = UINT32_MAX; // as if held that often: one more is an overflow
    MTASK_WITH(&full) {
        runs++;
    }
    MTASK_GUARD_AS(guard, &full);
    CHECK(runs == 0 && guard.status == MTASK_OVERFLOW);
}

void count_up(void *number) {
    ++*static_cast<int *>(number);
}

void deferred_calls_run_when_thrown_through() {
    int count = 0;
    CHECK(throws([&] {
        MTASK_DEFER(count_up, &count);
        MTASK_DEFER(count_up, &count);
        CHECK(count == 0);
        throw_if(true);
    }));
    CHECK(count == 2);
}

struct account {
    mtask_mutex lock;
    mtask_cond changed;
    int balance;
};

void *deposit(void *arg) {
    account *a = static_cast<account *>(arg);
    for (int i = 0; i < 1000; i++) {
        MTASK_GUARD(&a->lock);
        a->balance++;
    }
    return mtask_cond_notify_all(&a->changed) == MTASK_OK ? arg : nullptr;
}

void threads_share_with_std_thread() {
    account a = {};
    mtask_thread thread = {};
    mtask_outcome outcome;
    mtask_status status;
    CHECK(mtask_thread_start(&thread, deposit, &a) == MTASK_OK);
    std::thread other(deposit, &a);
    CHECK(mtask_mutex_lock(&a.lock) == MTASK_OK);
    MTASK_COND_WAIT_FOR(status, &a.changed, &a.lock, MTASK_SEC(60), a.balance == 2000);
    CHECK(status == MTASK_OK && a.balance == 2000);
    CHECK(mtask_mutex_unlock(&a.lock) == MTASK_OK);
    other.join();
    CHECK(mtask_thread_join(&thread, &outcome, MTASK_SEC(60)) == MTASK_OK);
    CHECK(outcome.status == MTASK_OK && outcome.value == &a);
}

void *fail_on_purpose(void *) {
    return mtask_fail(MTASK_NOT_FOUND, "no %s at %d", "answer", 42);
}

void threads_by_description() {
    mtask_thread thread = {};
    mtask_thread_desc desc = {};
    mtask_future *future = nullptr;
    mtask_outcome outcome;
    desc.fn = fail_on_purpose;
    desc.name = "unlucky";
    desc.future = &future;
    CHECK(mtask_thread_start_ex(&thread, &desc) == MTASK_OK);
    CHECK(std::strcmp(mtask_thread_name(&thread), "unlucky") == 0);
    CHECK(mtask_thread_join(&thread, &outcome, MTASK_SEC(60)) == MTASK_FAILED);
    CHECK(outcome.status == MTASK_NOT_FOUND);
    CHECK(std::strcmp(outcome.text, "no answer at 42") == 0);
    CHECK(mtask_future_get(future, &outcome, MTASK_SEC(60)) == MTASK_FAILED);
    mtask_future_release(future);
}

void *lambda_target(void *arg) {
    *static_cast<bool *>(arg) = true;
    return nullptr;
}

void the_rest_of_the_house() {
    bool ran = false;
    mtask_once_flag once = {};
    CHECK(mtask_once(&once, lambda_target, &ran) == MTASK_OK && ran);
    mtask_barrier barrier;
    uint32_t index = 9;
    CHECK(mtask_barrier_init(&barrier, 1, nullptr, nullptr, MTASK_PRIVATE) == MTASK_OK);
    CHECK(mtask_barrier_wait(&barrier, &index, MTASK_NOWAIT) == MTASK_OK && index == 0);
    mtask_timer timer = {};
    mtask_event fired = {};
    mtask_fn set = [](void *event) -> void * {
        mtask_event_set(static_cast<mtask_event *>(event));
        return nullptr;
    };
    CHECK(mtask_timer_start(&timer, MTASK_MS(1), set, &fired) == MTASK_OK);
    CHECK(mtask_event_wait(&fired, MTASK_SEC(60)) == MTASK_OK);
    CHECK(mtask_timer_cancel(&timer, MTASK_SEC(60)) == MTASK_DONE);
    mtask_local local = {};
    CHECK(mtask_local_init(&local, nullptr) == MTASK_OK);
    CHECK(mtask_local_set(&local, &ran) == MTASK_OK && mtask_local_get(&local) == &ran);
    CHECK(mtask_local_deinit(&local) == MTASK_OK);
}

void objects_live_in_containers() {
    std::vector<mtask_event> events(8);
    for (mtask_event &event : events)
        mtask_event_set(&event);
    for (mtask_event &event : events)
        CHECK(mtask_event_is_set(&event));
}

} // namespace

int main() {
    zero_is_ready();
    guards_unlock_when_thrown_through();
    with_is_left_on_every_way();
    with_skips_its_block_when_locking_fails();
    deferred_calls_run_when_thrown_through();
    threads_share_with_std_thread();
    threads_by_description();
    the_rest_of_the_house();
    objects_live_in_containers();
    CHECK(mtask_thread_join_all(MTASK_SEC(60)) == MTASK_OK);
    return 0;
}
