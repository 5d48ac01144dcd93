#!/bin/sh
# code_size.sh HEADER: prints how many bytes of code and constants the implementation in HEADER
# compiles to with -Os (`size`: text), then of what they consist. Run it at the top of the
# repository.
set -eu
object=$(mktemp)
trap 'rm -f "$object"' EXIT
printf '#define MTASK_IMPLEMENTATION\n#include "%s"\n' "$1" |
    "${CC:-gcc}" -std=c11 -Os -I. -x c -c -o "$object" -
size "$object" | awk 'NR == 2 { printf "%d bytes:", $1 }'
size -A "$object" | awk '$1 ~ /^\.(text|rodata|eh_frame)/ { sum[$1] += $2 }
    END { printf " .text %d, .rodata %d, .eh_frame %d\n", sum[".text"],
          sum[".rodata"] + sum[".rodata.str1.1"] + sum[".rodata.str1.8"], sum[".eh_frame"] }'
