# shellcheck shell=bash disable=SC2034 # the variables are for those who source it
# lib.sh - what the compile checks (each_header.sh, config_*.sh) share; sourced, not run
#
# A check script calls try, refuse and finish; its last line is "N passed, N failed".
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
