// mkdir -p build && cc -O2 -pthread -I. -o build/70_fork examples/70_fork.c
//
// fork returns twice: 0 in the child, and the child's number in the parent. mtask goes on to work
// in both. mtask_proc_start is the same for a function, with an end that can be waited for, a value,
// and no zombies.
//
// Output (patterns):
//   ^Process \([0-9]+\) start\.\.\.$
//   ^I \([0-9]+\) just created a child process \([0-9]+\)\.$
//   ^I am child process \([0-9]+\) and my parent is [0-9]+\.$
//   ^fork: the child's parent is this process: yes$
//   ^I \([0-9]+\) just created a child process \([0-9]+\)\.$
//   ^I am child process \([0-9]+\) and my parent is [0-9]+\.$
//   ^mtask_proc_start: the child's parent is this process: yes$
#define MTASK_IMPLEMENTATION
#include "mtask_proc.h"
#include "common.h"
#include <sys/wait.h>
#include <unistd.h>

static void *child(void *arg) {
    pid_t parent = *(const pid_t *)arg; /* its copy of the parent's memory */
    mtask_proc_info self = mtask_proc_current();
    MUST(mtask_sleep(seconds(1)));
    printf("I am child process (%d) and my parent is %d.\n", (int)getpid(), (int)getppid());
    bool right = getppid() == parent && self.parent == parent && self.pid == getpid();
    return (void *)(intptr_t)right;
}

int main(void) {
    pid_t self = getpid();
    mtask_proc *process;
    mtask_outcome outcome;
    int status;

    printf("Process (%d) start...\n", (int)self);
    fflush(stdout); /* or the child has it in its buffer, too, and prints it again */
    pid_t pid = fork();
    if (pid == 0)
        exit(child(&self) != NULL ? EXIT_SUCCESS : EXIT_FAILURE);
    printf("I (%d) just created a child process (%d).\n", (int)self, (int)pid);
    fflush(stdout);
    MUST(mtask_child_wait(pid, &status, MTASK_FOREVER));
    printf("fork: the child's parent is this process: %s\n", status == 0 ? "yes" : "no");

    MUST(mtask_proc_start(&process, child, &self));
    printf("I (%d) just created a child process (%d).\n", (int)self, (int)mtask_proc_pid(process));
    fflush(stdout);
    MUST(mtask_proc_join(process, &outcome, MTASK_FOREVER));
    MUST(mtask_proc_close(process));
    printf("mtask_proc_start: the child's parent is this process: %s\n",
           outcome.value != NULL ? "yes" : "no");
    return 0;
}
