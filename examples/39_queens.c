// mkdir -p build && cc -O2 -pthread -I. -o build/39_queens examples/39_queens.c
//
// In how many ways can N queens stand on a board of N x N squares, so that none attacks another?
// `build/39_queens [N]`. Each free square of a row is a job of its own, which returns how many ways
// there are with a queen on it; a row's jobs lie in an array on the stack and are synced in reverse
// order. Checked against a serial run of the same search.
//
// Output with 10:
//   10 queens: 724 ways; one thread: 0.005 s; a worker for each CPU: 0.003 s; the same: yes
// Output with 1:
//   1 queens: 1 ways; one thread: 0.000 s; a worker for each CPU: 0.000 s; the same: yes
// Output with 3:
//   3 queens: 0 ways; one thread: 0.000 s; a worker for each CPU: 0.000 s; the same: yes
#define MTASK_IMPLEMENTATION
#include "mtask_pool.h"
#include "common.h"

enum { MOST = 20, DEFAULT = 14 };

/* The rows above are occupied; one bit for each column. */
typedef struct Board {
    unsigned free_rows;   /* how many rows are still to be filled */
    unsigned columns;     /* those without a queen */
    unsigned left, right; /* those attacked in this row along the diagonals */
} Board;

static Board put(const Board *board, unsigned square) {
    Board next = *board;
    next.free_rows--;
    next.columns &= ~square;
    next.left = (board->left | square) << 1;
    next.right = (board->right | square) >> 1;
    return next;
}

static uintptr_t count(const Board *board) {
    uintptr_t ways = 0;
    for (unsigned open = board->columns & ~(board->left | board->right); open != 0;) {
        unsigned square = open & -open;
        Board next = put(board, square);
        ways += next.free_rows == 0 ? 1 : count(&next);
        open &= ~square;
    }
    return ways;
}

static void *count_jobs(void *arg) {
    const Board *board = (const Board *)arg;
    Board next[MOST];
    mtask_job jobs[MOST];
    uintptr_t ways = 0;
    int n = 0;
    if (board->free_rows <= 4)
        return (void *)count(board); /* little work: not worth 20 more boards on the stack */
    for (unsigned open = board->columns & ~(board->left | board->right); open != 0; n++) {
        next[n] = put(board, open & -open);
        MUST(mtask_job_spawn(&jobs[n], count_jobs, &next[n]));
        open &= open - 1;
    }
    while (n-- > 0) {
        void *value;
        MUST(mtask_job_sync(&jobs[n], &value));
        ways += (uintptr_t)value;
    }
    return (void *)ways;
}

static uintptr_t count_in_pool(Board *board) {
    mtask_future *future;
    mtask_outcome outcome;
    MUST(mtask_pool_submit(NULL, count_jobs, board, &future));
    MUST(mtask_future_get(future, &outcome, MTASK_FOREVER));
    mtask_future_release(future);
    return (uintptr_t)outcome.value;
}

int main(int argc, char **argv) {
    unsigned long n = argc > 1 ? strtoul(argv[1], NULL, 10) : DEFAULT;
    if (n < 1 || n > MOST) {
        fprintf(stderr, "usage: 39_queens [N], with N from 1 to %d\n", MOST);
        return 2;
    }
    Board board = {.free_rows = (unsigned)n, .columns = (1U << n) - 1};
    int64_t start = mtask_now();
    uintptr_t serial = count(&board);
    int64_t middle = mtask_now();
    uintptr_t parallel = count_in_pool(&board);
    int64_t end = mtask_now();
    printf(
        "%lu queens: %ju ways; one thread: %.3f s; a worker for each CPU: %.3f s; the same: %s\n",
        n, (uintmax_t)parallel, (double)(middle - start) / 1e9, (double)(end - middle) / 1e9,
        serial == parallel ? "yes" : "no");
    return serial != parallel;
}
