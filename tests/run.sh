#!/usr/bin/env bash
# run.sh - runs the tests: `run.sh quick`, `run.sh all`, or `run.sh NAME...` with the names below,
# those of the check scripts (config_cpp, ...), lint, format, examples, pwc, pgzip, httpd, prefork,
# parallel, flash.
#
# Each configuration compiles tests/mtask_impl.c and every tests/test_*.c, links each pair, runs it.
# TESTS="mutex cond" in the environment takes only the tests/test_*.c whose names hold one of these
# words; STRESS=100 runs all rounds of the stress tests; TIMES=1 prints how long each takes. A line
# for each configuration; last, "N passed, N failed".
set -u
cd "$(dirname "$0")/.." || exit 1

ASAN="-g -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer"
TSAN="-O1 -g -fsanitize=thread"
PROC="_(proc|cmd|conn|shm)"
IO="_(io|net|stream|serve|offload)"
CORO="_(coro|loop|taskgroup|cancel|switch)"
SLOW="_(stress|linear|kill)"

# name | compiler of the implementation | compiler of the tests | flags | factor of time-outs | how
# many of the rounds of stress tests, in per cent: all where it is worth most, for the time it takes |
# which tests are left out (a pattern): what this configuration changes is not in what they test, or
# another one has it, too
CONFIGS=(
    "gcc-O2     | gcc -std=c11   | gcc -std=c11   | -O2 -Werror                     | 2 | 20 | -"
    "asan       | clang -std=c11 | clang -std=c11 | -O1 $ASAN                       | 4 | 10 | _linear|_kill|_wait_flags"
    "tsan       | gcc -std=c11   | gcc -std=c11   | $TSAN -Wno-tsan                 | 6 | 15 | _failure"
    "posix      | gcc -std=c11   | gcc -std=c11   | -O2 -Werror -DMTASK_FORCE_POSIX | 2 | 10 | (mtask|queue|pool|coro)_failure|_linear"
    "posix-tsan | clang -std=c11 | clang -std=c11 | $TSAN -DMTASK_FORCE_POSIX       | 6 | 10 | _failure|$PROC|$IO|$CORO"
    "debug      | gcc -std=c11   | gcc -std=c11   | -O1 -g -DMTASK_DEBUG=1          | 2 | 10 | _failure|$SLOW|$PROC|$IO|$CORO"
    "c++11-O0   | g++ -std=c++11 | gcc -std=c11   | -O0 -Werror                     | 2 | 10 | $SLOW|_conn|_procpool_end|_procimap"
)
QUICK="gcc-O2 each_header config_errors config_units"
CHECKS="each_header config_warnings config_units config_errors config_cpp config_plugin
    config_install config_queue config_pool config_coro config_io config_proc config_arch config_bare
    fuzz lint format"
STAGES="examples pwc pgzip httpd prefork parallel"
BESIDE="flash" # mostly waits: runs beside all others

OUT=build/tests
WARN="-Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wundef"
CHECK_FLAGS=$(pkg-config --cflags check)
CHECK_LIBS=$(pkg-config --libs check)
JOBS=$(nproc)
export OUT WARN CHECK_FLAGS CHECK_LIBS
export UBSAN_OPTIONS=print_stacktrace=1
export ASAN_OPTIONS=detect_leaks=1:detect_stack_use_after_return=1
export TSAN_OPTIONS=halt_on_error=1:atexit_sleep_ms=50:second_deadlock_stack=1:suppressions=tests/tsan.supp

total_passed=0
total_failed=0

# trim TEXT: without blanks at both ends.
trim() {
    local text=$1
    text=${text#"${text%%[! ]*}"}
    printf '%s' "${text%"${text##*[! ]}"}"
}

# record NAME PASSED FAILED SECONDS: the summary line.
record() {
    total_passed=$((total_passed + $2))
    total_failed=$((total_failed + $3))
    printf '%-16s %5d passed %4d failed %7.1f s\n' "$1" "$2" "$3" "$4"
}

# since START: seconds since then, START being of $EPOCHREALTIME.
since() {
    awk -v a="$1" -v b="$EPOCHREALTIME" 'BEGIN { print b - a }'
}

# show LOG: what a failed step printed, shortened.
show() {
    local lines
    lines=$(wc -l <"$1")
    echo "---- $1"
    head -n 60 "$1"
    [ "$lines" -gt 100 ] && echo "     ... ($lines lines)"
    [ "$lines" -gt 60 ] && tail -n $((lines > 100 ? 40 : lines - 60)) "$1"
    echo "----"
}

# standalone FILE: whether a test holds the implementation itself.
standalone() {
    grep -q '^# *define MTASK_IMPLEMENTATION' "$1"
}

# compile FILE: makes $DIR/NAME.o, of a test or, at the same time as those, of the implementation; on
# failure a result of one failed test.
compile() {
    local name compiler=$TEST_CC
    name=$(basename "$1" .c)
    [ "$1" != tests/mtask_impl.c ] || compiler="$IMPL_CC $IMPL_LANGUAGE"
    # shellcheck disable=SC2086 # lists of words
    timeout 300 $compiler $WARN $FLAGS $CHECK_FLAGS -pthread -c -o "$DIR/$name.o" "$1" \
        >"$DIR/$name.log" 2>&1 || echo "0 1" >"$DIR/$name.result"
}

# link FILE: makes $DIR/NAME of that; on failure likewise.
link() {
    local name object=$DIR/mtask_impl.o flags
    name=$(basename "$1" .c)
    [ ! -e "$DIR/$name.result" ] || return 0
    standalone "$1" && object=
    flags=$(sed -n 's/.*testing-ldflags: *\(.*[^ */]\)[ */]*$/\1/p' "$1")
    # shellcheck disable=SC2086 # lists of words
    timeout 300 $TEST_CC $FLAGS -pthread -o "$DIR/$name" "$DIR/$name.o" $object $flags $LINK_LIBS \
        $CHECK_LIBS >>"$DIR/$name.log" 2>&1 || echo "0 1" >"$DIR/$name.result"
}

# run_test FILE: runs $DIR/NAME, if it was made, and writes "PASSED FAILED".
run_test() {
    local name log line status start=$EPOCHREALTIME
    name=$(basename "$1" .c)
    log=$DIR/$name.log
    [ -e "$DIR/$name.result" ] && return 0
    # shellcheck disable=SC2086 # a list of words
    timeout -k 5 900 $RUNNER "$DIR/$name" >>"$log" 2>&1 </dev/null
    status=$?
    line=$(grep -E '^[0-9]+%: Checks: [0-9]+, Failures: [0-9]+, Errors: [0-9]+' "$log" | tail -n 1)
    echo "$line" | awk -v status=$status '{
        gsub(/[^0-9 ]/, ""); checks = $2; bad = $3 + $4
        if (status != 0 && bad == 0) { bad = 1; if (checks == 0) checks = 1
            printf "exit code %d without a failed test\n", status >"/dev/stderr" }
        if (checks == 0) { checks = bad = 1 }
        print checks - bad, bad }' >"$DIR/$name.result" 2>>"$log"
    [ -z "${TIMES:-}" ] || printf '    %-32s %7.1f s\n' "$name" "$(since "$start")"
}
export -f since standalone compile link run_test

# selected PATTERN: the test files that TESTS admits, but for those. With the implementation in C++,
# none that holds one itself.
selected() {
    local file word
    for file in tests/test_*.c; do
        [ -e "$file" ] || continue
        [[ $1 == - || ! $file =~ $1 ]] || continue
        [ "$IMPL_CC" = "${IMPL_CC#*++}" ] || ! standalone "$file" || continue
        for word in ${TESTS:-.c}; do
            case ${file#tests/test_} in *"$word"*) echo "$file" && break ;; esac
        done
    done
}

# find_runner: what TSan programs need in front to run on this kernel: nothing, or setarch -R.
find_runner() {
    RUNNER=
    case $FLAGS in *-fsanitize=thread*) ;; *) return ;; esac
    # shellcheck disable=SC2086 # a list of words
    echo 'int main(void) { return 0; }' | $TEST_CC -fsanitize=thread -x c -o "$DIR/tsan" - &&
        ! "$DIR/tsan" >/dev/null 2>&1 && setarch -R "$DIR/tsan" >/dev/null 2>&1 &&
        RUNNER="setarch -R"
}

# run_config LINE: compiles and runs one configuration.
run_config() {
    local name factor scale without start=$EPOCHREALTIME passed=0 failed=0 file files p f
    IFS='|' read -r name IMPL_CC TEST_CC FLAGS factor scale without <<<"$1"
    name=$(trim "$name") IMPL_CC=$(trim "$IMPL_CC") factor=$(trim "$factor")
    DIR=$OUT/$name LINK_LIBS=
    case $IMPL_CC in *++*) LINK_LIBS=-lstdc++ ;; esac
    export DIR IMPL_CC TEST_CC FLAGS LINK_LIBS RUNNER CK_TIMEOUT_MULTIPLIER=$factor
    export MTASK_TEST_SCALE=${STRESS:-$scale}
    rm -rf "$DIR"
    mkdir -p "$DIR"
    find_runner
    IMPL_LANGUAGE=
    case $IMPL_CC in *++*) IMPL_LANGUAGE="-x c++" ;; esac
    export IMPL_LANGUAGE
    files=$(selected "$(trim "$without")")
    [ -n "$files" ] || return
    xargs -P "$JOBS" -I{} bash -c 'compile {}' <<<"tests/mtask_impl.c"$'\n'"$files"
    if [ -e "$DIR/mtask_impl.result" ]; then
        show "$DIR/mtask_impl.log"
        record "$name" 0 1 "$(since "$start")"
        return
    fi
    xargs -P "$JOBS" -I{} bash -c 'link {}' <<<"$files"
    xargs -P $((2 * JOBS)) -I{} bash -c 'run_test {}' <<<"$files" # they wait more than they work
    for file in $files; do
        file=$DIR/$(basename "$file" .c)
        read -r p f <"$file.result"
        passed=$((passed + p)) failed=$((failed + f))
        [ "$f" = 0 ] || show "$file.log"
    done
    record "$name" $passed $failed "$(since "$start")"
}

# stage_command NAME: what a stage that is no configuration runs.
stage_command() {
    case $1 in
    lint) echo "tests/lint.py" ;;
    format) echo "make -s format-check" ;;
    examples) echo "tests/examples.sh" ;;
    pwc | pgzip | httpd | prefork | parallel | flash) echo "tests/test_$1.sh" ;;
    *) echo "tests/$1.sh" ;;
    esac
}

# run_stage NAME: runs it and writes "PASSED FAILED SECONDS": what its last line "N passed, N
# failed" says, or one test by its exit code.
run_stage() {
    local start=$EPOCHREALTIME log=$OUT/$1.log status counts passed failed
    # shellcheck disable=SC2046 # a list of words
    timeout -k 5 900 $(stage_command "$1") >"$log" 2>&1 </dev/null
    status=$?
    counts=$(sed -n 's/.*\b\([0-9][0-9]*\) passed, \([0-9][0-9]*\) failed.*/\1 \2/p' "$log" |
        tail -n 1)
    [ -n "$counts" ] || counts=$([ $status = 0 ] && echo "1 0" || echo "0 1")
    read -r passed failed <<<"$counts"
    [ $status = 0 ] || [ "$failed" != 0 ] || failed=1
    echo "$passed $failed $(since "$start")" >"$OUT/$1.result"
}
export -f stage_command run_stage

# report_stages NAME...: the summary lines of stages that have run.
report_stages() {
    local name passed failed seconds
    for name in "$@"; do
        read -r passed failed seconds <"$OUT/$name.result"
        [ "$failed" = 0 ] || show "$OUT/$name.log"
        record "$name" "$passed" "$failed" "$seconds"
    done
}

# run_stages AT-ONCE NAME...: runs stages, that many at once, then prints their summary lines.
run_stages() {
    local at_once=$1
    shift
    printf '%s\n' "$@" | xargs -P "$at_once" -I{} bash -c 'run_stage {}'
    report_stages "$@"
}

# print_size: how much code a program gets that uses everything of a header (and, of a header that
# stands on others, theirs, too).
print_size() {
    local header
    for header in mtask*.h; do
        echo "code of $header, gcc -Os: $(tests/bench/code_size.sh "$header")"
    done
}

# config_line NAME: the line of CONFIGS with this name, or nothing.
config_line() {
    local line
    for line in "${CONFIGS[@]}"; do
        [ "$(trim "${line%%|*}")" != "$1" ] || printf '%s\n' "$line"
    done
}

# run_names NAME...: configurations first, one after the other, then the rest.
run_names() {
    local name line stages=()
    for name in "$@"; do
        line=$(config_line "$name")
        if [ -n "$line" ]; then
            run_config "$line"
        else
            stages+=("$name")
        fi
    done
    [ ${#stages[@]} = 0 ] || run_stages 2 "${stages[@]}"
}

mkdir -p "$OUT"
case ${1:-quick} in
quick)
    export STRESS=${STRESS:-10}
    # shellcheck disable=SC2086 # a list of words
    run_names $QUICK
    ;;
all)
    run_stage $BESIDE &
    for line in "${CONFIGS[@]}"; do
        run_config "$line"
    done
    # shellcheck disable=SC2086 # lists of words
    run_stages 2 $CHECKS
    # shellcheck disable=SC2086 # lists of words; one after the other: they may measure time
    run_stages 1 $STAGES
    wait
    report_stages $BESIDE
    print_size
    ;;
*)
    run_names "$@"
    ;;
esac
echo "$total_passed passed, $total_failed failed"
[ "$total_failed" = 0 ] && [ "$total_passed" != 0 ]
