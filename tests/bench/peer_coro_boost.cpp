// flags: -lboost_context
// peer_coro_boost.cpp FIGURE - Boost.Context's fibers: prints ns; `version` prints what it is. The
// figures are those of bench_coro.c; a fiber hands no values over, and its stacks have no guard.
#include <boost/context/fiber.hpp>
#include <boost/version.hpp>

#include <cstdio>
#include <cstring>
#include <ctime>
#include <utility>

using boost::context::fiber;

static const long SWITCHES = 25000000;
static const long CREATIONS = 6000000;

// CPU time of the thread, as bench_cpu_ns in bench.h.
static double cpu_ns() {
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

static double switch_pair(long times) {
    fiber other{[](fiber &&back) {
        for (;;)
            back = std::move(back).resume();
        return std::move(back);
    }};
    other = std::move(other).resume();
    double start = cpu_ns();
    for (long i = 0; i < times; i++)
        other = std::move(other).resume();
    return (cpu_ns() - start) / (double)times;
}

// The stack comes from malloc, which is what a fiber does by itself.
static double create_run_destroy(long times) {
    double start = cpu_ns();
    for (long i = 0; i < times; i++) {
        fiber other{[](fiber &&back) { return std::move(back); }};
        other = std::move(other).resume();
    }
    return (cpu_ns() - start) / (double)times;
}

int main(int argc, char **argv) {
    const char *figure = argc > 1 ? argv[1] : "";
    double (*run)(long) = nullptr;
    long times = 0;
    if (std::strcmp(figure, "version") == 0) {
        std::printf("%d.%d\n", BOOST_VERSION / 100000, BOOST_VERSION / 100 % 1000);
        return 0;
    }
    if (std::strcmp(figure, "switch_pair") == 0) {
        run = switch_pair;
        times = SWITCHES;
    }
    if (std::strcmp(figure, "create_run_destroy") == 0) {
        run = create_run_destroy;
        times = CREATIONS;
    }
    if (run == nullptr) {
        std::fprintf(stderr, "peer_coro_boost: no figure '%s'\n", figure);
        return 2;
    }
    run(times / 4);
    std::printf("%.3f\n", run(times));
    return 0;
}
