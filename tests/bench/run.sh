#!/bin/bash
# run.sh [MODULE]: runs the benchmarks of one header (mtask, queue, ...) or of all, and draws them.
#
# Makes build/bench.tsv (figure, unit, ours, peer's name, peer, ratio; a line per figure and peer;
# running one module replaces only its lines) and the chart build/bench.svg and .png.
# CC and CFLAGS may be given; MTASK_BENCH_RUNS is the number of rounds (default 9).
#
# A module's benchmark is bench_MODULE.c. Its peers in other languages are peer_MODULE_NAME.EXT
# beside it: built here as build/bench/peer_MODULE_NAME, a program that prints one number. The class
# in a .java file is named as the file is. `// flags: ...` as the first line of one in C or C++ is
# added to the compiler's. MODULE_*.h is what the benchmark and its peers share. `// examples: NAME`
# as a line of the benchmark: it runs examples/NAME.c, built here as build/bench/NAME.
set -eu
cd "$(dirname "$0")/../.."
OUT=build/bench
CC=${CC:-gcc}
mkdir -p "$OUT"

# build_peer SOURCE PROGRAM: by the extension; a language that is not installed fails.
build_peer() {
    local flags
    flags=$(sed -n '1s,^// flags: ,,p' "$1")
    case $1 in
    *.c) $CC -O2 ${CFLAGS:-} -pthread -I. "$1" -o "$2" $flags -lm ;;
    *.cpp) "${CXX:-g++}" -O2 ${CFLAGS:-} -pthread -I. "$1" -o "$2" $flags ;;
    *.go) go build -o "$2" "$1" ;;
    *.rs) PEER_COMPILER=$(rustc --version) rustc -O -o "$2" "$1" ;;
    *.py) command -v python3 >/dev/null && cp "$1" "$2" && chmod +x "$2" ;;
    *.java) javac -d "$2.classes" "$1" &&
        printf '#!/bin/sh\nexec java -cp "$0.classes" %s "$@"\n' "$(basename "$2")" >"$2" &&
        chmod +x "$2" ;;
    esac
}

# is_newer PROGRAM SOURCE...: than all of these that exist.
is_newer() {
    local source
    for source in "${@:2}"; do
        [ -e "$source" ] && [ ! "$1" -nt "$source" ] && return 1
    done
    return 0
}

build_peers() {
    local source program headers
    for source in tests/bench/peer_"$1"_*; do
        [ -e "$source" ] || continue
        program=$OUT/$(basename "${source%.*}")
        headers=
        grep -q '^#include "mtask' "$source" && headers=$(ls mtask*.h)
        # shellcheck disable=SC2086 # a list of words
        is_newer "$program" "$source" tests/bench/"$1"_*.h $headers && continue
        rm -f "$program"
        build_peer "$source" "$program" || echo "missing: $source could not be built"
    done
}

# build_examples MODULE: each by the command in its first line.
build_examples() {
    local name program command
    for name in $(sed -n 's,^// examples: ,,p' "tests/bench/bench_$1.c"); do
        program=$OUT/$name
        # shellcheck disable=SC2046 # a list of words
        is_newer "$program" "examples/$name.c" $(ls mtask*.h) && continue
        rm -f "$program"
        command=$(sed -n '1s,^// ,,p' "examples/$name.c")
        command=${command/ cc / $CC ${CFLAGS:-} }
        sh -c "${command/-o build\/$name/-o $program}" ||
            echo "missing: examples/$name.c could not be built"
    done
}

# run_module MODULE: its lines, with the columns for the chart, end up in build/bench/MODULE.tsv.
run_module() {
    local program=$OUT/bench_$1
    build_peers "$1"
    build_examples "$1"
    # -fno-plt or the like would favour one side: the flags are what a user types.
    $CC -std=c11 -O2 ${CFLAGS:-} -pthread -I. "tests/bench/bench_$1.c" -o "$program" -lm
    MTASK_BENCH_TSV=$OUT/$1.new "$program"
    mv "$OUT/$1.new" "$OUT/$1.tsv"
}

if [ $# -gt 0 ]; then
    modules=$1
else
    modules=$(ls tests/bench/bench_*.c | sed 's/.*bench_\(.*\)\.c/\1/')
fi
for module in $modules; do
    if [ ! -e "tests/bench/bench_$module.c" ]; then
        echo "run.sh: there is no tests/bench/bench_$module.c" >&2
        exit 2
    fi
    run_module "$module"
done

for source in tests/bench/bench_*.c; do
    module=${source##*/bench_}
    cat "$OUT/${module%.c}.tsv" 2>/dev/null || true
done >"$OUT/all"
cut -f1-6 "$OUT/all" >build/bench.tsv
echo "table: build/bench.tsv"
if command -v gnuplot >/dev/null; then
    rows=$(wc -l <"$OUT/all")
    gnuplot -e "data='$OUT/all'; rows=$rows" tests/bench/chart.gp
    echo "chart: build/bench.svg build/bench.png"
    if [ -e "$OUT/pool_scaling.tsv" ]; then
        gnuplot tests/bench/scaling.gp
        echo "chart: build/pool_scaling.svg build/pool_scaling.png"
    fi
else
    echo "chart: missing, since gnuplot is not installed (make deps)"
fi
