#!/usr/bin/env bash
# each_header.sh - every header compiles as the only include, beside nothing but the headers that
# it names itself, in C and C++, with and without the implementation.
# shellcheck source=tests/lib.sh
. "$(dirname "$0")/lib.sh"

# carry HEADER DIR: copies a header, and what it includes of mtask, into DIR.
carry() {
    local next
    [ -e "$2/$1" ] && return
    cp "$1" "$2/$1"
    for next in $(sed -n 's/^ *# *include "\(mtask[a-z_]*\.h\)".*/\1/p' "$1"); do
        carry "$next" "$2"
    done
}

for header in mtask*.h; do
    dir=$OUT/${header%.h}
    mkdir -p "$dir"
    carry "$header" "$dir"
    printf '#include "%s"\n' "$header" >"$dir/use.c"
    printf '#define MTASK_IMPLEMENTATION\n#include "%s"\n' "$header" >"$dir/impl.c"
    for unit in use impl; do
        for cc in "gcc -std=c11" "clang -std=c11" "g++ -x c++ -std=c++11" \
            "clang++ -x c++ -std=c++11"; do
            # shellcheck disable=SC2086 # lists of words
            try "$header alone, $unit, $cc" $cc $WARN -pthread -c -o "$dir/$unit.o" "$dir/$unit.c"
        done
    done
done
finish
