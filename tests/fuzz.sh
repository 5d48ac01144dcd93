#!/usr/bin/env bash
# fuzz.sh - runs each tests/fuzz_NAME.c for FUZZ_SECONDS (default: 8) from what is kept in
# tests/fuzz/NAME, and once more all that is kept. Each is built by its own first line, its product in
# build/. From the repository root: tests/fuzz.sh [NAME ...]
set -u
OUT=${OUT:-build/tests}/fuzz
passed=0
failed=0

# build NAME: by its first line; prints what went wrong.
build() {
    local line
    line=$(sed -n '1s|^// ||p' "tests/fuzz_$1.c" | sed "s| -o [^ ]*| -o $OUT/$1|")
    # shellcheck disable=SC2086 # a list of words
    $line >"$OUT/$1.log" 2>&1
}

# fuzz NAME: new inputs go into a copy; one that fails is left beside it.
fuzz() {
    rm -rf "$OUT/$1.corpus"
    cp -r "tests/fuzz/$1" "$OUT/$1.corpus"
    UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 timeout 120 "$OUT/$1" -seed=1 \
        -max_total_time="${FUZZ_SECONDS:-8}" -max_len=1200 -timeout=20 \
        -artifact_prefix="$OUT/$1-" "$OUT/$1.corpus" >>"$OUT/$1.log" 2>&1
}

mkdir -p "$OUT"
[ $# != 0 ] || set -- $(basename -s .c tests/fuzz_*.c | sed 's/^fuzz_//')
for name in "$@"; do
    if build "$name" && fuzz "$name"; then
        passed=$((passed + 1))
        echo "$name: $(grep -ao 'Done [0-9]* runs in [0-9]* second' "$OUT/$name.log" | tail -n 1)s"
    else
        failed=$((failed + 1))
        tail -n 40 "$OUT/$name.log"
        ls "$OUT/$name"-* 2>/dev/null
    fi
done
echo "$passed passed, $failed failed"
[ $failed = 0 ]
