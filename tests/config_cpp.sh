#!/usr/bin/env bash
# config_cpp.sh - a C++ program that uses the headers, in C++11 to 20, beside an implementation
# compiled as C, or compiled in the program's own language.
# shellcheck source=tests/lib.sh
. "$(dirname "$0")/lib.sh"

gcc -std=c11 -O2 -pthread -c -o "$OUT/impl.o" tests/mtask_impl.c
for cxx in g++ clang++; do
    for std in c++11 c++14 c++17 c++20; do
        # shellcheck disable=SC2086 # lists of words
        try "$cxx -std=$std" $cxx -std=$std $WARN -O2 -pthread -o "$OUT/$cxx-$std" \
            tests/use_cpp.cpp "$OUT/impl.o" &&
            try "$cxx -std=$std: run" "$OUT/$cxx-$std"
    done
    # shellcheck disable=SC2086 # lists of words
    try "$cxx: all in one file, sanitizers" $cxx -std=c++11 $WARN -g -O1 -pthread \
        -fsanitize=address,undefined -fno-sanitize-recover=all -DMTASK_IMPLEMENTATION \
        -DMTASK_STATIC -o "$OUT/$cxx-one" tests/use_cpp.cpp &&
        try "$cxx: all in one file, sanitizers: run" "$OUT/$cxx-one"
done
finish
