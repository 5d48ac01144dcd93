#!/usr/bin/env bash
# config_units.sh - one program of two C files: one implementation, or a static one in each; and
# the header included many times, in every order.
# shellcheck source=tests/lib.sh
. "$(dirname "$0")/lib.sh"

# units NAME COMPILER FLAGS-A FLAGS-B: builds and runs the program of two files.
units() {
    local name=$1 cc=$2 dir=$OUT/$1
    mkdir -p "$dir"
    # shellcheck disable=SC2086 # lists of words
    {
        try "$name: first unit" $cc $WARN -O2 -pthread $3 -c -o "$dir/a.o" tests/two_units_a.c &&
            try "$name: second unit" $cc $WARN -O2 -pthread $4 -c -o "$dir/b.o" \
                tests/two_units_b.c &&
            try "$name: link" $cc -pthread -o "$dir/two" "$dir/a.o" "$dir/b.o" &&
            try "$name: run" "$dir/two"
    }
}

for cc in gcc clang; do
    units "one-$cc" "$cc -std=c11" -DMTASK_IMPLEMENTATION ""
    units "other-$cc" "$cc -std=c11" "" -DMTASK_IMPLEMENTATION
    # Static copies keep house by themselves, as two_units_a.c is told.
    static="-DMTASK_IMPLEMENTATION -DMTASK_STATIC"
    units "static-$cc" "$cc -std=c11" "$static" "$static"
    units "debug-$cc" "$cc -std=c11 -DMTASK_DEBUG=1" "$static" "$static"
done

cat >"$OUT/many.c" <<'END'
#include "mtask.h"
#include "mtask.h"
#define MTASK_IMPLEMENTATION
#include "mtask.h"
#include "mtask.h"
#undef MTASK_IMPLEMENTATION
#include "mtask.h"
#define MTASK_IMPLEMENTATION
#include "mtask.h"
int main(void) {
    return mtask_cpu_count() > 0 && mtask_now() > 0 ? 0 : 1;
}
END
for cc in gcc clang; do
    # The implementation after the declarations needs -D_GNU_SOURCE: stdint.h came before it.
    # shellcheck disable=SC2086 # a list of words
    try "many includes, $cc" $cc -std=c11 $WARN -pthread -I. -D_GNU_SOURCE -o "$OUT/many-$cc" \
        "$OUT/many.c" &&
        try "many includes, $cc: run" "$OUT/many-$cc"
done
finish
