#!/usr/bin/env bash
# demo.sh - builds the examples by their own first lines, and runs the main one, examples/pgzip.c, on
# a file of 200 MB made of what lies below DIR (default: /usr): packs it beside gzip and pigz, and
# has gunzip read what came out.
set -u
export LC_ALL=C
cd "$(dirname "$0")/.." || exit 1
DIR=${DIR:-/usr}
OUT=build/demo
FILE=$OUT/files.tar
MOST=200 # MB
mkdir -p "$OUT"

# build_example FILE: runs the command in the first line of the file.
build_example() {
    local command
    command=$(sed -n '1s,^// ,,p' "$1")
    [ -n "$command" ] || { echo "$1: no command in its first line"; return 1; }
    bash -c "$command" || { echo "$1: its first line does not build it"; return 1; }
}
export -f build_example

# make_file: an archive of the files below DIR, in the order of their names, up to MOST.
make_file() {
    find "$DIR" -xdev -type f -readable -size -32M -printf '%s\t%p\n' | sort -t $'\t' -k 2 |
        awk -F '\t' -v most="$MOST" '{ sum += $1 + 1024; if (sum > most * 1e6) exit; print $2 }' \
            >"$OUT/names"
    tar -cf "$FILE" -P --ignore-failed-read -T "$OUT/names" 2>"$OUT/tar.log"
    [ "$(stat -c %s "$FILE")" -gt 0 ] && cat "$FILE" >/dev/null # it is in memory now, for all
}

# timed NAME COMMAND...: runs it with its output in $OUT/NAME, and leaves its seconds in $seconds.
timed() {
    local start=$EPOCHREALTIME out=$OUT/$1
    shift
    "$@" >"$out" || exit 1
    seconds=$(awk -v a="$start" -v b="$EPOCHREALTIME" 'BEGIN { printf "%.2f", b - a }')
}

# pack NAME COMMAND...: packs the file, and prints a line of the table.
pack() {
    timed "$@" "$FILE"
    awk -v name="${*:2}" -v s="$seconds" -v from="$(stat -c %s "$FILE")" \
        -v to="$(stat -c %s "$OUT/$1")" 'BEGIN { printf "    %-24s %6.2f s %6.0f MB/s %10.1f %%\n",
            name, s, from / s / 1e6, to * 100 / from }'
}

# unpack COMMAND...: must give the file again; prints a line of the table.
unpack() {
    timed unpacked "$@" "$OUT/pgzip.gz"
    cmp "$OUT/unpacked" "$FILE" || exit 1
    awk -v name="$*" -v s="$seconds" -v size="$(stat -c %s "$FILE")" \
        'BEGIN { printf "    %-24s %6.2f s %6.0f MB/s   the same bytes\n", name, s, size / s / 1e6 }'
}

# has PROGRAM: whether it is there.
has() {
    command -v "$1" >/dev/null
}

echo "Building the examples, each by the command in its first line:"
echo
echo "    \$ $(sed -n '1s,^// ,,p' examples/pgzip.c)"
echo
printf '%s\n' examples/*.c | xargs -P "$(nproc)" -I{} bash -c 'build_example {}' || exit 1
programs=$(find examples -name '*.c' | wc -l)
echo "$programs programs are in build/ now. The main one, pgzip, packs as gzip does, with a thread"
echo "for each CPU (here $(nproc))."
echo
make_file || { echo "cannot make $FILE: see $OUT/tar.log"; exit 1; }
echo "$FILE: $(wc -l <"$OUT/names") files of $DIR, $(($(stat -c %s "$FILE") / 1000000)) MB."
echo "Packed, each once:"
echo
! has gzip || pack gzip.gz gzip -c
! has pigz || pack pigz.gz pigz -c
pack pgzip.gz build/pgzip -c
echo
echo "What pgzip has packed, unpacked and compared:"
echo
! has gunzip || unpack gunzip -c
! has pigz || unpack pigz -dc
unpack build/pgzip -dc
rm -f "$OUT"/*.gz "$OUT/unpacked"
