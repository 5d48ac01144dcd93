// mkdir -p build && cc -O2 -pthread -I. -o build/13_with_lock examples/13_with_lock.c
//
// A lock for the length of a block or of a scope: it is let go of on every way out.
//
// Output:
//   in the block: locked
//   after the block: unlocked
//   left by break at 3: unlocked
//   left by return with 42: unlocked
//   two at the end of a function: unlocked, unlocked
//   the loop was left by break at 2: unlocked
#define MTASK_IMPLEMENTATION
#include "mtask.h"
#include "common.h"

static mtask_mutex lock;
static mtask_rmutex other;
static int number = 1; /* guarded by the lock */

static const char *state(void) {
    return mtask_mutex_is_locked(&lock) ? "locked" : "unlocked";
}

static int leave_by_break(void) {
    MTASK_WITH(&lock) {
        number = 3;
        if (number > 2)
            break; /* leaves the block */
        number = 4;
    }
    return number;
}

static int leave_by_return(void) {
    MTASK_WITH(&lock) {
        return 42;
    }
    return 0; /* the lock could not be had */
}

static void take_two(void) {
    MTASK_GUARD(&lock);
    MTASK_GUARD(&other);
    number++;
}

static int leave_loop(void) {
    int i;
    for (i = 0; i < 5; i++) {
        MTASK_GUARD(&lock);
        if (i == 2)
            break; /* leaves the loop */
    }
    return i;
}

int main(void) {
    MTASK_WITH(&lock) {
        printf("in the block: %s\n", state());
    }
    printf("after the block: %s\n", state());
    int left = leave_by_break();
    printf("left by break at %d: %s\n", left, state());
    left = leave_by_return();
    printf("left by return with %d: %s\n", left, state());
    take_two();
    printf("two at the end of a function: %s, %s\n", state(),
           mtask_rmutex_is_locked(&other) ? "locked" : "unlocked");
    left = leave_loop();
    printf("the loop was left by break at %d: %s\n", left, state());
    return 0;
}
