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

optimised=(
    "-DMTASK_IMPLEMENTATION"
    "-DMTASK_IMPLEMENTATION -DMTASK_DEBUG=1"
    "-DMTASK_IMPLEMENTATION -DMTASK_FORCE_POSIX"
)

for header in mtask*.h; do
    printf '#include "%s"\n' "$header"
done >"$OUT/all.h"

# check COMPILER LANGUAGE STANDARD MODE: all variants of one language version; those that differ most if
# code is made.
check() {
    local variant which=("${variants[@]}")
    [ "$4" = -fsyntax-only ] || which=("${optimised[@]}")
    for variant in "${which[@]}"; do
        # shellcheck disable=SC2086 # lists of words
        try "$1 $3 $variant" "$1" -x "$2" "-std=$3" $WARN -pthread -I. $variant $4 "$OUT/all.h"
    done
}

# Optimised, so that the compiler looks at data flow, too: once by each compiler, once in each language.
check gcc c c11 "-O2 -c -o $OUT/c11.o"
check gcc c c11 -fsyntax-only
check gcc c c17 -fsyntax-only
check clang c c11 -fsyntax-only
check clang c c17 -fsyntax-only
for standard in c++11 c++14 c++17 c++20; do
    check g++ c++ $standard -fsyntax-only
done
for standard in c++11 c++14 c++20; do
    check clang++ c++ $standard -fsyntax-only
done
check clang++ c++ c++17 -fsyntax-only
check clang++ c++ c++17 "-O2 -c -o $OUT/c++17.o"
finish
