#!/usr/bin/env bash
# config_platform.sh - MTASK_PLATFORM_CUSTOM compiles for a 32-bit processor without an operating
# system, and needs no atomic operation there that the processor does not have.
# shellcheck source=tests/lib.sh
. "$(dirname "$0")/lib.sh"

target="clang --target=thumbv7m-none-eabi -mthumb -ffreestanding -isystem /usr/include/newlib"

# custom NAME FLAGS: compiles all headers for the target.
custom() {
    # shellcheck disable=SC2086 # lists of words
    try "$1 for thumbv7m" $target -std=c11 -Os $WARN -DMTASK_PLATFORM_CUSTOM $2 -c \
        -o "$OUT/$1.o" tests/mtask_impl.c
    # `nm` alone would answer nothing for an object that was never made.
    try "$1: an object with code" test -s "$OUT/$1.o"
    try "$1: no atomic wider than a pointer" \
        bash -c '! nm -u "$0" | grep -E "__atomic_|__sync_"' "$OUT/$1.o"
}

custom plain ""
custom debug -DMTASK_DEBUG=1
finish
