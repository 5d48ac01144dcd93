// mkdir -p build && cc -O2 -pthread -I. -o build/30_shared_queue examples/30_shared_queue.c
//
// Three processes take jobs from a queue in shared memory and put the results into another one. One
// of them is killed in the middle of its work: the queues stay whole, the others go on, and all that
// is missing is the job that it held. The parent puts that in again.
//
// Output:
//   a worker was killed by signal 9 while it worked on job 7
//   job 7 is in the queue again
//   results: 1 4 9 16 25 36 49 64 81 100 121 144
//   2 workers came to their end
#define MTASK_IMPLEMENTATION
#include "mtask_queue.h"
#include "common.h"
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { JOBS = 12, WORKERS = 3, UNLUCKY = 7 };

typedef struct Job {
    int number, square;
    bool again; /* it has been given out before */
} Job;

MTASK_QUEUE_TYPE(jobs, Job);

/* What the processes share; each may see it at an address of its own. */
typedef struct Shared {
    MTASK_QUEUE_STORAGE(to_do, JOBS, sizeof(Job));
    MTASK_QUEUE_STORAGE(done, JOBS, sizeof(Job));
    int held[WORKERS]; /* the job that each works on */
} Shared;

static Shared *shared;

static mtask_queue_desc in(unsigned char *storage) {
    return (mtask_queue_desc){.capacity = JOBS,
                              .storage = storage,
                              .storage_size = sizeof shared->done,
                              .flags = MTASK_SHARED};
}

/* What each worker runs, with handles of its own. (A forked process might use those of its parent;
   one that is started otherwise finds the queues like this.) */
static void work(int self) {
    mtask_queue_desc to_do_desc = in(shared->to_do), done_desc = in(shared->done);
    jobs to_do, done;
    Job job;
    MUST(jobs_attach(&to_do, &to_do_desc));
    MUST(jobs_attach(&done, &done_desc));
    while (jobs_get(&to_do, &job, MTASK_SEC(30)) == MTASK_OK) { /* or closed, or forgotten */
        shared->held[self] = job.number;
        MUST(mtask_sleep(seconds(0.1)));
        if (job.number == UNLUCKY && !job.again)
            raise(SIGKILL); /* as the system does when memory runs short */
        job.square = job.number * job.number;
        MUST(jobs_put(&done, job, MTASK_FOREVER));
    }
}

/* Waits for the end of a worker that is killed; returns the job that it held. */
static int wait_for_death(const pid_t *workers) {
    int status, i = 0;
    pid_t dead = waitpid(-1, &status, 0);
    while (i < WORKERS - 1 && workers[i] != dead)
        i++;
    printf("a worker was killed by signal %d while it worked on job %d\n", WTERMSIG(status),
           shared->held[i]);
    return shared->held[i];
}

static void print_results(jobs *done) {
    int squares[JOBS + 1] = {0};
    for (int i = 0; i < JOBS; i++) {
        Job job;
        MUST(jobs_get(done, &job, MTASK_FOREVER));
        squares[job.number] = job.square;
    }
    printf("results:");
    for (int i = 1; i <= JOBS; i++)
        printf(" %d", squares[i]);
    printf("\n");
}

int main(void) {
    jobs to_do, done;
    pid_t workers[WORKERS];
    int ended = 0, status;

    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    MUST(shared != MAP_FAILED ? MTASK_OK : MTASK_SYSTEM);
    mtask_queue_desc to_do_desc = in(shared->to_do), done_desc = in(shared->done);
    MUST(jobs_init_ex(&to_do, &to_do_desc));
    MUST(jobs_init_ex(&done, &done_desc));
    for (int i = 0; i < WORKERS; i++) {
        workers[i] = fork();
        MUST(workers[i] >= 0 ? MTASK_OK : MTASK_SYSTEM);
        if (workers[i] == 0) {
            work(i);
            _exit(EXIT_SUCCESS);
        }
    }
    for (int n = 1; n <= JOBS; n++)
        MUST(jobs_put(&to_do, (Job){.number = n}, MTASK_FOREVER));

    Job job = {.number = wait_for_death(workers), .again = true};
    MUST(jobs_put(&to_do, job, MTASK_FOREVER));
    printf("job %d is in the queue again\n", job.number);
    print_results(&done);

    MUST(jobs_close(&to_do));
    while (waitpid(-1, &status, 0) > 0)
        ended += WIFEXITED(status) && WEXITSTATUS(status) == EXIT_SUCCESS;
    printf("%d workers came to their end\n", ended);
    MUST(jobs_deinit(&done));
    MUST(jobs_deinit(&to_do));
    munmap(shared, sizeof *shared);
    return 0;
}
