// mkdir -p build && cc -O2 -I. -o build/53_bare_generators examples/53_bare_generators.c
//
// Firmware without an operating system: no thread, no loop, no allocation. Two generators are driven
// by a tick; each says what is done one after the other, and keeps no state but where it stands. One
// is sent the level of a pin and tells when the button is pressed: contacts bounce, so a level counts
// once it has been the same for three ticks. The other is sent that news, and yields whether the LED
// is to be on: it blinks slowly, and after each press four times fast. Their stacks are arrays of the
// program; on a microcontroller 2 KiB each are enough. (Here the pin is a drawing, a tick for each
// character.)
//
// Output:
//   pin      ______#_#_####_#####________#__#####______________
//   pressed  ____________#____________________#________________
//   LED      ####____####_#_#_#_#_####____####_#_#_#_#_####____
#define MTASK_NO_THREADS
#define MTASK_IMPLEMENTATION
#include "mtask_coro.h"
#include "common.h"

/* Yields *pressed, and then false, until the pin has been at `level` for three ticks. */
static bool settle(bool level, bool *pressed) {
    for (int same = 0; same < 3;) {
        void *pin;
        if (mtask_coro_yield(pressed, &pin) != MTASK_OK)
            return false; /* it is being closed */
        *pressed = false;
        same = *(bool *)pin == level ? same + 1 : 0;
    }
    return true;
}

static void *button(void *arg) {
    bool pressed = false;
    while (settle(true, &pressed)) {
        pressed = true;
        if (!settle(false, &pressed))
            break;
    }
    return arg;
}

/* Yields `on` for some ticks. MTASK_DONE: the button was pressed before they were over. */
static mtask_status show(bool on, int ticks) {
    for (; ticks > 0; ticks--) {
        void *pressed;
        if (mtask_coro_yield(&on, &pressed) != MTASK_OK)
            return MTASK_CANCELED;
        if (*(bool *)pressed)
            return MTASK_DONE;
    }
    return MTASK_OK;
}

static void *led(void *arg) {
    mtask_status status = MTASK_OK;
    while (status != MTASK_CANCELED) {
        for (bool on = true; (status = show(on, 4)) == MTASK_OK;)
            on = !on;
        for (int i = 0; i < 8 && status != MTASK_CANCELED; i++)
            status = show(i % 2 == 0, 1);
    }
    return arg;
}

/* Makes a generator on a stack of the program; it runs as far as its first yield. */
static mtask_coro *start(mtask_fn fn, int which, void **first) {
    static char stacks[2][16384];
    mtask_coro_desc desc = {0};
    mtask_coro *generator;
    desc.fn = fn;
    desc.stack = stacks[which];
    desc.stack_size = sizeof stacks[which];
    MUST(mtask_coro_create_ex(&generator, &desc));
    MUST(mtask_coro_resume(generator, NULL, first));
    return generator;
}

int main(void) {
    static const char pin[] = "______#_#_####_#####________#__#####______________";
    static char presses[sizeof pin], lights[sizeof pin];
    void *pressed, *on;
    mtask_coro *a = start(button, 0, &pressed);
    mtask_coro *b = start(led, 1, &on);
    for (int tick = 0; pin[tick] != '\0'; tick++) { /* in firmware: for ever, at each interrupt */
        bool level = pin[tick] == '#';
        lights[tick] = *(bool *)on ? '#' : '_';
        MUST(mtask_coro_resume(a, &level, &pressed));
        presses[tick] = *(bool *)pressed ? '#' : '_';
        MUST(mtask_coro_resume(b, pressed, &on));
    }
    printf("pin      %s\npressed  %s\nLED      %s\n", pin, presses, lights);
    MUST(mtask_coro_close(a));
    MUST(mtask_coro_close(b));
    MUST(mtask_coro_destroy(a));
    MUST(mtask_coro_destroy(b));
    return 0;
}
