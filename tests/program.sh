# shellcheck shell=sh disable=SC2034 # the variables are for those who source it
# program.sh - what the tests of the larger examples (test_httpd.sh, test_pgzip.sh ...) share; sourced
# with their arguments, from the repository root: $flags, $seed, a directory of their own, $dir, and
# counts of what passed and failed.
flags="$*"
seed=${MTASK_TEST_SEED:-$$}
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
trap 'exit 1' HUP INT TERM
chmod 755 "$dir"
passed=0
failed=0
# Under TSan a program sleeps for a second before it exits.
export TSAN_OPTIONS="halt_on_error=1:atexit_sleep_ms=0${TSAN_OPTIONS:+:$TSAN_OPTIONS}"

pass() {
    passed=$((passed + 1))
}

# fail NAME: and shows what a program has said in $dir/err.
fail() {
    failed=$((failed + 1))
    echo "FAILED: $*"
    head -n 20 "$dir/err" 2>/dev/null | sed 's/^/    /'
}

# check NAME COMMAND...: the command must succeed.
check() {
    name=$1
    shift
    if "$@"; then
        pass
    else
        fail "$name"
    fi
}
