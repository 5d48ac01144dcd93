# shellcheck shell=bash disable=SC2034 # the variables are for those who source it
# lib.sh - what the compile checks (each_header.sh, config_*.sh) share; sourced, not run
#
# A check script calls try and refuse, or run, check and collect for several at a time, and finish; its
# last line is "N passed, N failed".
set -u
cd "$(dirname "$0")/.." || exit 1

WARN="-Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wundef -Werror"
OUT=build/tests/$(basename "$0" .sh)
passed=0
failed=0
rm -rf "$OUT"
mkdir -p "$OUT"

# count NAME STATUS COMMAND OUTPUT: counts a check, shows one that failed, and returns STATUS.
count() {
    if [ "$2" = 0 ]; then
        passed=$((passed + 1))
        return 0
    fi
    failed=$((failed + 1))
    echo "FAILED: $1"
    echo "    \$ $3"
    printf '%s\n' "$4" | head -n 30 | sed 's/^/    /'
    return 1
}

# try NAME COMMAND...: the command must succeed, within two minutes. Returns whether it did.
try() {
    local name=$1 output status
    shift
    output=$(timeout -k 5 120 "$@" 2>&1)
    status=$?
    count "$name" $status "$*" "$output (exit code $status)"
}

# refuse NAME TEXT COMMAND...: the command must fail and say TEXT (a basic regular expression).
refuse() {
    local name=$1 text=$2 output status=1
    shift 2
    if output=$(timeout -k 5 120 "$@" 2>&1); then
        output="it succeeded, and should not: $output"
    elif printf '%s\n' "$output" | grep -q -- "$text"; then
        status=0
    else
        output="it failed, but did not say '$text': $output"
    fi
    count "$name" $status "$*" "$output"
}

# finish: the last line, and the exit code.
finish() {
    echo "$passed passed, $failed failed"
    [ "$failed" = 0 ] && [ "$passed" != 0 ]
}

# Checks run in the background, two at a time; `collect` counts them, in the order of their start.
names=()

# check NAME COMMAND...: the command must succeed.
check() {
    local log=$OUT/check-${#names[@]}
    names+=("$1")
    shift
    while [ "$(jobs -rp | wc -l)" -ge 2 ]; do
        wait -n
    done
    echo "$*" >"$log.command"
    { "$@" >"$log.out" 2>&1 </dev/null; echo $? >"$log.status"; } &
}

# make_and_run PROGRAM COMMAND...: the command makes the program, which runs, or is given to $WITH.
make_and_run() {
    local program=$1
    shift
    timeout -k 5 300 "$@" -pthread -I. -I"$OUT" -o "$program" || return
    # shellcheck disable=SC2086 # a list of words
    ${WITH:-timeout -k 5 300} "$program"
}

# run NAME COMMAND...: the command must make a program, and that must succeed.
run() {
    local name=$1
    shift
    check "$name" make_and_run "$OUT/program-${#names[@]}" "$@"
}

# collect: waits for all, and counts them.
collect() {
    local i log
    wait
    for i in "${!names[@]}"; do
        log=$OUT/check-$i
        count "${names[i]}" "$(cat "$log.status")" "$(cat "$log.command")" "$(cat "$log.out")"
    done
}
