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

# build PROGRAM COMPILER FLAG...: examples/$example.c, by its own first line.
build() {
    program=$1
    compiler=$2
    shift 2
    command=$(sed -n '1s,^// ,,p' "examples/$example.c" |
        sed "s|&& cc -O2 |\&\& $compiler -O2 $* |;s|-o build/$example|-o '$program'|")
    case $command in
    *"$compiler -O2 $* "*"-o '$program' "*)
        sh -c "$command" >"$program.log" 2>&1 && [ -x "$program" ] && return
        ;;
    esac
    echo "command: $command" >>"$program.log"
    return 1
}

# find_runner PROGRAM: what TSan programs need in front to run on this kernel: nothing, or setarch.
find_runner() {
    runner=
    "$1" --help >/dev/null 2>&1 || { setarch -R "$1" --help >/dev/null 2>&1 && runner='setarch -R'; }
}
