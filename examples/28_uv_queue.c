// mkdir -p build && cc -O2 -pthread -I. -o build/28_uv_queue examples/28_uv_queue.c -luv
//
// A queue in a libuv program (Debian: libuv1-dev): a uv_poll_t watches its descriptor, beside a
// timer. A thread looks for primes; what it finds is printed on the loop's thread, by a callback.
// Neither side waits for the other, unless the queue of four is full.
//
// Output (in order by first word):
//   prime 999983
//   prime 1000003
//   prime 1000033
//   prime 1000037
//   prime 1000039
//   that was all
//   timer: 1
//   timer: 2
//   timer: 3
#define MTASK_IMPLEMENTATION
#include "mtask_queue.h"
#include "common.h"
#include <uv.h>

MTASK_QUEUE_TYPE(numbers, int);

static void *find_primes(void *arg) {
    numbers *primes = (numbers *)arg;
    for (int n = 999980; n <= 1000040; n++) {
        int divisor = 2;
        while (divisor * divisor <= n && n % divisor != 0)
            divisor++;
        if (divisor * divisor > n)
            MUST(numbers_put(primes, n, MTASK_FOREVER));
    }
    MUST(numbers_close(primes));
    return NULL;
}

/* The queue has something: take all there is. */
static void on_readable(uv_poll_t *watcher, int error, int events) {
    numbers *primes = (numbers *)watcher->data;
    mtask_status status;
    int n;
    (void)error, (void)events;
    while ((status = numbers_get(primes, &n, MTASK_NOWAIT)) == MTASK_OK)
        printf("prime %d\n", n);
    if (status == MTASK_CLOSED) {
        printf("that was all\n");
        uv_close((uv_handle_t *)watcher, NULL);
    }
}

static void on_timer(uv_timer_t *timer) {
    static int ticks;
    printf("timer: %d\n", ++ticks);
    if (ticks == 3)
        uv_close((uv_handle_t *)timer, NULL);
}

static void must_uv(int result) {
    if (result >= 0)
        return;
    fprintf(stderr, "libuv: %s\n", uv_strerror(result));
    exit(EXIT_FAILURE);
}

int main(void) {
    uint64_t tick = (uint64_t)(seconds(0.5) / MTASK_MS(1));
    numbers primes;
    int fd;
    uv_poll_t watcher = {.data = &primes};
    uv_timer_t timer;

    MUST(numbers_init(&primes, 4));
    MUST(numbers_pollfd(&primes, &fd));
    must_uv(uv_poll_init(uv_default_loop(), &watcher, fd));
    must_uv(uv_poll_start(&watcher, UV_READABLE, on_readable));
    must_uv(uv_timer_init(uv_default_loop(), &timer));
    must_uv(uv_timer_start(&timer, on_timer, tick, tick));

    MUST(mtask_thread_spawn(find_primes, &primes));
    must_uv(uv_run(uv_default_loop(), UV_RUN_DEFAULT)); /* until both handles are closed */
    MUST(mtask_thread_join_all(MTASK_FOREVER));
    must_uv(uv_loop_close(uv_default_loop()));
    MUST(numbers_deinit(&primes));
    return 0;
}
