#!/usr/bin/env bash
# config_errors.sh - what must not compile, or not link, says so clearly.
# shellcheck source=tests/lib.sh
. "$(dirname "$0")/lib.sh"

printf '#include <stdio.h>\n#define MTASK_IMPLEMENTATION\n#include "mtask.h"\n' >"$OUT/late.c"
early="a system header came before"
for cc in gcc clang; do
    for std in c11 gnu11; do
        refuse "$cc -std=$std: stdio.h before the implementation" "$early" \
            $cc -std=$std -pthread -I. -c -o "$OUT/late.o" "$OUT/late.c"
        try "$cc -std=$std: the same with -D_GNU_SOURCE" \
            $cc -std=$std -D_GNU_SOURCE -pthread -I. -c -o "$OUT/late.o" "$OUT/late.c"
    done
done

# A program whose files disagree about MTASK_DEBUG must not link, whichever of them is the odd one.
cat >"$OUT/use.c" <<'END'
#include "mtask.h"
int main(void) {
    mtask_mutex lock = {0};
    return mtask_mutex_lock(&lock) == MTASK_OK && mtask_mutex_unlock(&lock) == MTASK_OK ? 0 : 1;
}
END
for debug in 0 1; do
    gcc -std=c11 -O2 -pthread -I. -DMTASK_DEBUG=$debug -c -o "$OUT/use-$debug.o" "$OUT/use.c"
    gcc -std=c11 -O2 -pthread -DMTASK_DEBUG=$debug -c -o "$OUT/impl-$debug.o" tests/mtask_impl.c
done
for debug in 0 1; do
    other=$((1 - debug))
    try "files agree on MTASK_DEBUG=$debug" \
        gcc -pthread -o "$OUT/same" "$OUT/use-$debug.o" "$OUT/impl-$debug.o"
    refuse "MTASK_DEBUG=$debug, the implementation with $other" "undefined reference" \
        gcc -pthread -o "$OUT/mixed" "$OUT/use-$debug.o" "$OUT/impl-$other.o"
done
finish
