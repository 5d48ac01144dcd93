#!/usr/bin/env bash
# demo.sh - builds the examples by their own first lines, runs the main one, examples/pwc.c, on a
# real tree (DIR, default /usr/include), and compares it with GNU wc: result and time.
set -u
cd "$(dirname "$0")/.." || exit 1
DIR=${DIR:-/usr/include}
OUT=build/demo
mkdir -p "$OUT"

# build_example FILE: runs the command in the first line of the file.
build_example() {
    local command
    command=$(sed -n '1s,^// ,,p' "$1")
    [ -n "$command" ] || { echo "$1: no command in its first line"; return 1; }
    bash -c "$command" || { echo "$1: its first line does not build it"; return 1; }
}
export -f build_example

# timed COMMAND...: runs it with its output in $OUT/out, and prints milliseconds.
timed() {
    local start=$EPOCHREALTIME
    "$@" >"$OUT/out" || return 1
    awk -v a="$start" -v b="$EPOCHREALTIME" 'BEGIN { printf "%.1f\n", (b - a) * 1000 }'
}

gnu_wc() {
    LC_ALL=C wc --files0-from="$OUT/names"
}

# fastest FILE: the smallest of the numbers in it.
fastest() {
    sort -n "$1" | head -n 1
}

echo "Building the examples, each by the command in its first line:"
echo
echo "    \$ $(sed -n '1s,^// ,,p' examples/pwc.c)"
echo
printf '%s\n' examples/*.c | xargs -P "$(nproc)" -I{} bash -c 'build_example {}' || exit 1
programs=$(find examples -name '*.c' | wc -l)
echo "$programs programs are in build/ now. The main one, pwc, counts the lines, words and bytes"
echo "of every file below a directory, with a thread for each CPU (here $(nproc)):"
echo
echo "    \$ build/pwc $DIR"
build/pwc "$DIR" >"$OUT/pwc.txt"
head -n 3 "$OUT/pwc.txt" | sed 's/^/    /'
echo "    ..."
tail -n 3 "$OUT/pwc.txt" | sed 's/^/    /'
echo

# The same names for GNU wc, in the same order; then both in turns, so that a disturbance of the
# machine meets both.
find -H "$DIR" -type f -print0 | LC_ALL=C sort -z >"$OUT/names"
rm -f "$OUT/pwc.ms" "$OUT/wc.ms"
for _ in 1 2 3 4 5; do
    timed gnu_wc >>"$OUT/wc.ms" || exit 1
    cp "$OUT/out" "$OUT/wc.txt"
    timed build/pwc -q "$DIR" >>"$OUT/pwc.ms" || exit 1
done
if ! cmp "$OUT/pwc.txt" "$OUT/wc.txt"; then
    echo "The output differs from GNU wc's: see $OUT/pwc.txt and $OUT/wc.txt"
    exit 1
fi
ours=$(fastest "$OUT/pwc.ms")
theirs=$(fastest "$OUT/wc.ms")
files=$(tr -cd '\0' <"$OUT/names" | wc -c)
echo "GNU wc, given the same $files files, prints the same, byte for byte. Best of 5 runs, in ms:"
echo
printf '    %-26s %8.1f\n' "wc, one thread" "$theirs" "pwc, $(nproc) threads" "$ours"
awk -v a="$theirs" -v b="$ours" 'BEGIN { printf "    %-26s %8.1f\n", "wc / pwc", a / b }'
