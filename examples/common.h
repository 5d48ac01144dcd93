/* What the examples share: times that a test can shorten, and an end to calls that must succeed. */
#ifndef EXAMPLES_COMMON_H
#define EXAMPLES_COMMON_H

#include "mtask.h"
#include <stdio.h>
#include <stdlib.h>

/* MTASK_EXAMPLE_SCALE in the environment stretches every second of the examples (default: 1). */
static inline double example_scale(void) {
    const char *text = getenv("MTASK_EXAMPLE_SCALE");
    double scale = text == NULL ? 1.0 : strtod(text, NULL);
    return scale > 0.0 ? scale : 1.0;
}

/* `n` seconds of the example, as a timeout. */
static inline int64_t seconds(double n) {
    return (int64_t)(n * example_scale() * 1e9);
}

/* How many seconds of the example have passed since `start`, an mtask_now(). */
static inline double seconds_since(int64_t start) {
    return (double)(mtask_now() - start) / 1e9 / example_scale();
}

static inline void must(mtask_status status, const char *call) {
    if (status == MTASK_OK)
        return;
    fprintf(stderr, "%s: %s (%s)\n", call, mtask_strerror(status), mtask_status_name(status));
    exit(EXIT_FAILURE);
}

/* Makes a call that has no reason to fail; if it does, says so and ends the program. */
#define MUST(call) must((call), #call)

#endif
