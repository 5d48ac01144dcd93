// mkdir -p build && cc -O2 -pthread -I. -o build/78_value_array examples/78_value_array.c
//
// A child has a copy of its parent's variables: what it changes there, the parent does not see. A
// Value and an Array lie in shared memory, with a lock: those both see.
//
// Output:
//   plain: 0.0 [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
//   shared: 3.1415927 [0, -1, -2, -3, -4, -5, -6, -7, -8, -9]
//   4 processes add 1 to it 10000 times each: 40000
#define MTASK_IMPLEMENTATION
#include "mtask_proc.h"
#include "common.h"

enum { ITEMS = 10, PROCESSES = 4, ROUNDS = 10000 };

static double plain_num;
static int plain_arr[ITEMS];
static mtask_array num, arr, counter; /* handles on what lies in shared memory */

static void *change(void *arg) {
    double pi = 3.1415927;
    plain_num = pi;
    for (int i = 0; i < ITEMS; i++)
        plain_arr[i] = -plain_arr[i];

    MUST(mtask_array_set(&num, 0, &pi));
    MUST(mtask_array_lock(&arr, MTASK_FOREVER)); /* for all of them at once */
    for (int i = 0; i < ITEMS; i++)
        ((int *)mtask_array_data(&arr))[i] *= -1;
    MUST(mtask_array_unlock(&arr));
    return arg;
}

static void *count(void *arg) {
    for (int i = 0; i < ROUNDS; i++) {
        MUST(mtask_array_lock(&counter, MTASK_FOREVER));
        ++*(long *)mtask_array_data(&counter);
        MUST(mtask_array_unlock(&counter));
    }
    return arg;
}

static void print(const char *name, double value, int digits, const int *array) {
    printf("%s: %.*f", name, digits, value);
    for (int i = 0; i < ITEMS; i++)
        printf("%s%d", i == 0 ? " [" : ", ", array[i]);
    printf("]\n");
}

int main(void) {
    mtask_proc *process, *processes[PROCESSES];
    double value;
    long total;
    MUST(mtask_array_create(&num, NULL, 1, sizeof(double)));
    MUST(mtask_array_create(&arr, NULL, ITEMS, sizeof(int)));
    MUST(mtask_array_create(&counter, NULL, 1, sizeof(long)));
    for (int i = 0; i < ITEMS; i++) {
        plain_arr[i] = i;
        MUST(mtask_array_set(&arr, (size_t)i, &i));
    }
    MUST(mtask_proc_start(&process, change, NULL));
    MUST(mtask_proc_join(process, NULL, MTASK_FOREVER));
    MUST(mtask_proc_close(process));
    MUST(mtask_array_get(&num, 0, &value));
    print("plain", plain_num, 1, plain_arr);
    print("shared", value, 7, (const int *)mtask_array_data(&arr)); /* nobody else uses it now */

    for (int i = 0; i < PROCESSES; i++)
        MUST(mtask_proc_start(&processes[i], count, NULL));
    for (int i = 0; i < PROCESSES; i++) {
        MUST(mtask_proc_join(processes[i], NULL, MTASK_FOREVER));
        MUST(mtask_proc_close(processes[i]));
    }
    MUST(mtask_array_get(&counter, 0, &total));
    printf("%d processes add 1 to it %d times each: %ld\n", PROCESSES, ROUNDS, total);
    MUST(mtask_array_close(&counter));
    MUST(mtask_array_close(&arr));
    MUST(mtask_array_close(&num));
    return 0;
}
