#!/usr/bin/env bash
# config_warnings.sh - no warning from any header, in any language version and any build option,
# the implementation included; gcc and clang.
# shellcheck source=tests/lib.sh
. "$(dirname "$0")/lib.sh"

variants=(
    ""
    "-DMTASK_DEBUG=1"
    "-DMTASK_IMPLEMENTATION"
    "-DMTASK_IMPLEMENTATION -DMTASK_STATIC"
    "-DMTASK_IMPLEMENTATION -DMTASK_DEBUG=1"
    "-DMTASK_IMPLEMENTATION -DMTASK_DEBUG=1 -DMTASK_STATIC"
    "-DMTASK_IMPLEMENTATION -DMTASK_FORCE_POSIX"
    "-DMTASK_IMPLEMENTATION -DMTASK_FORCE_POSIX -DMTASK_DEBUG=1"
)

for header in mtask*.h; do
    printf '#include "%s"\n' "$header"
done >"$OUT/all.h"

# check COMPILER LANGUAGE STANDARD MODE: all variants of one language version.
check() {
    local variant
    for variant in "${variants[@]}"; do
        # shellcheck disable=SC2086 # lists of words
        try "$1 $3 $variant" "$1" -x "$2" "-std=$3" $WARN -pthread -I. $variant $4 "$OUT/all.h"
    done
}

# Optimised where the language version is the most used: there the compiler looks at data flow, too.
for cc in gcc clang; do
    check $cc c c11 "-O2 -c -o $OUT/$cc-11.o"
    check $cc c c17 -fsyntax-only
done
for cc in g++ clang++; do
    check $cc c++ c++11 -fsyntax-only
    check $cc c++ c++14 -fsyntax-only
    check $cc c++ c++17 "-O2 -c -o $OUT/$cc-17.o"
    check $cc c++ c++20 -fsyntax-only
done
finish
