// mkdir -p build && cc -O2 -pthread -I. -o build/72_three_processes examples/72_three_processes.c
//
// Three processes of a function, then three of a "subclass": a struct that begins with what each
// process has, and has a function `run` and data of its own. Which process is whose: info.
//
// Output (any order):
//   main process line: started by mtask: no, name MainProcess
//   function info: started by mtask: yes, name Process-1, its parent is the main process: yes
//   hello alvin from Process-2
//   hello alvin from Process-3
//   hello alvin from Process-4
//   3 processes took 1.003 seconds
//   hello from MyProcess-1, which has number 10
//   hello from MyProcess-2, which has number 20
//   hello from MyProcess-3, which has number 30
//   end; children that are left: 0
#define MTASK_IMPLEMENTATION
#include "mtask_proc.h"
#include "common.h"
#include <unistd.h>

enum { COUNT = 3 };

static pid_t main_process;

static void *info(void *title) {
    mtask_proc_info self = mtask_proc_current();
    printf("%s: started by mtask: %s, name %s", (const char *)title, self.started ? "yes" : "no",
           self.name);
    if (self.started)
        printf(", its parent is the main process: %s", self.parent == main_process ? "yes" : "no");
    putchar('\n');
    return NULL;
}

static void *f(void *name) {
    MUST(mtask_sleep(seconds(1)));
    printf("hello %s from %s\n", (const char *)name, mtask_proc_current().name);
    return NULL;
}

static void by_function(void) {
    mtask_proc *processes[COUNT];
    int64_t start = mtask_now();
    for (int i = 0; i < COUNT; i++)
        MUST(mtask_proc_start(&processes[i], f, (void *)"alvin"));
    for (int i = 0; i < COUNT; i++) {
        MUST(mtask_proc_join(processes[i], NULL, MTASK_FOREVER));
        MUST(mtask_proc_close(processes[i]));
    }
    printf("%d processes took %.3f seconds\n", COUNT, seconds_since(start));
}

/* The "class": what is started runs `run` with itself, that is, with its copy in the child. */
typedef struct Process {
    mtask_proc *handle;
    void (*run)(struct Process *self);
} Process;

static void *call_run(void *self) {
    ((Process *)self)->run((Process *)self);
    return NULL;
}

typedef struct MyProcess {
    Process process; /* first, so that a pointer to it is one to the whole */
    int number;
} MyProcess;

static void my_run(Process *process) {
    const MyProcess *self = (const MyProcess *)process;
    MUST(mtask_sleep(seconds(1)));
    printf("hello from %s, which has number %d\n", mtask_proc_current().name, self->number);
}

static void by_subclass(void) {
    MyProcess processes[COUNT];
    for (int i = 0; i < COUNT; i++) {
        char name[MTASK_NAME_SIZE];
        snprintf(name, sizeof name, "MyProcess-%d", i + 1);
        processes[i] = (MyProcess){.process = {.run = my_run}, .number = 10 * (i + 1)};
        mtask_proc_desc desc = {.fn = call_run, .arg = &processes[i], .name = name};
        MUST(mtask_proc_start_ex(&processes[i].process.handle, &desc));
    }
    for (int i = 0; i < COUNT; i++) {
        MUST(mtask_proc_join(processes[i].process.handle, NULL, MTASK_FOREVER));
        MUST(mtask_proc_close(processes[i].process.handle));
    }
}

int main(void) {
    mtask_proc *process;
    size_t left;
    main_process = getpid();
    info((void *)"main process line");
    MUST(mtask_proc_start(&process, info, (void *)"function info"));
    MUST(mtask_proc_join(process, NULL, MTASK_FOREVER));
    MUST(mtask_proc_close(process));
    by_function();
    by_subclass();
    MUST(mtask_proc_enumerate(NULL, 0, &left));
    printf("end; children that are left: %zu\n", left);
    return 0;
}
