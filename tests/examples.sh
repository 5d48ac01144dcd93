#!/usr/bin/env bash
# Builds each example by the command in its first line, runs it, and compares what it prints with
# the comment at its top. From the repository root: tests/examples.sh [name of an example ...]
#
# In that comment, `Output:` is followed by the expected lines, indented by two. There may be more:
#   Output with ARGS:                  of a run with these arguments
#   Output (any order):                the same lines, in whatever order
#   Output (in order by first word):   the same lines, those that begin with the same word in order
#   Output (patterns):                 extended regular expressions; each matches a line, in this
#                                      order; other lines may stand between
#   Exit: N                            the exit code, if it is not 0
# Except in patterns, a number with a decimal point stands for any such number: a measured time.
# Nothing may be printed to standard error.
#
# The examples sleep; here their seconds are hundredths (MTASK_EXAMPLE_SCALE). Where the order of
# lines rests on sleeps, a busy machine can upset it; a failing example is run once more, ten times
# slower.
#
# CC (default: cc) replaces the compiler, EXAMPLE_FLAGS is added to the command.
set -u
# Under TSan a program sleeps for a second before it exits, in which a daemon thread goes on.
export TSAN_OPTIONS="atexit_sleep_ms=0${TSAN_OPTIONS:+:$TSAN_OPTIONS}"
tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT
passed=0
failed=0

# ---- what the comment says ----

# Writes $tmp/N.want, N.args and N.kind for the Nth output in file $1, and prints how many.
read_comment() {
    rm -f "$tmp"/*.want "$tmp"/*.args "$tmp"/*.kind
    awk -v dir="$tmp" '
        !/^\/\// { exit }
        /^\/\/ Output( with [^:(]+)?( \([^)]*\))?:$/ {
            n++
            args = kind = ""
            if (match($0, / with [^:(]+/)) args = substr($0, RSTART + 6, RLENGTH - 6)
            sub(/ $/, "", args)
            if (match($0, /\([^)]*\)/)) kind = substr($0, RSTART + 1, RLENGTH - 2)
            print args > (dir "/" n ".args")
            print kind > (dir "/" n ".kind")
            printf "" > (dir "/" n ".want")
            inside = 1
            next
        }
        inside && /^\/\/   / { print substr($0, 6) > (dir "/" n ".want"); next }
        { inside = 0 }
        END { print n + 0 }' "$1"
}

exit_code() {
    sed -n 's|^// Exit: \([0-9]*\)$|\1|p; /^[^\/]/q' "$1" | grep . || echo 0
}

# ---- comparing ----

any_time() {
    sed -E 's/[0-9]+\.[0-9]+/#.#/g' "$1"
}

match_patterns() {
    awk 'NR == FNR { pattern[++n] = $0; next }
         i < n && $0 ~ pattern[i + 1] { i++ }
         END { if (i < n) { print "no line for: " pattern[i + 1]; exit 1 } }' "$1" "$2"
}

# compare KIND WANT GOT
compare() {
    case $1 in
    '') diff <(any_time "$2") <(any_time "$3") ;;
    'any order') diff <(any_time "$2" | sort) <(any_time "$3" | sort) ;;
    'in order by first word')
        diff <(any_time "$2" | sort -s -k1,1) <(any_time "$3" | sort -s -k1,1)
        ;;
    patterns) match_patterns "$2" "$3" ;;
    *)
        echo "the comment has an unknown kind of output: $1"
        return 1
        ;;
    esac
}

# Each measured time in GOT is at least that of the same line in WANT.
times_at_least() {
    paste -d '|' <(sort "$1") <(sort "$2") | awk -F '|' '{
        want = $1; got = $2
        sub(/^[^.]*[^0-9.]/, "", want); sub(/^[^.]*[^0-9.]/, "", got)
        if (got + 0 < want + 0) { print "too early: " $2 " (expected: " $1 ")"; exit 1 } }'
}

# ---- what only some examples need: check_NAME WANT GOT ----

# The ends come in the order of the sleeps and joins; which thread begins first is left to chance.
check_03_join() {
    times_at_least "$1" "$2" &&
        diff <(any_time "$1" | grep -v Begin) <(any_time "$2" | grep -v Begin)
}

check_20_timer() {
    times_at_least "$1" "$2"
}

check_22_queue_kinds() {
    times_at_least "$1" "$2"
}

# Each value is put once and got once, and got after it was put.
check_24_two_writers_two_readers() {
    awk '/: put / { put[$3]++ } /: got / { if (!put[$3]) exit 1; got[$3]++ }
         END { for (i = 1; i <= 6; i++) if (put[i] != 1 || got[i] != 1) exit 1 }' "$2"
}

# Each task is worked on once, and join returns when all are done.
check_25_queue_join() {
    awk '/is working on/ { n[$NF]++; count++; if (ended) exit 1 } /^all tasks/ { ended = 1 }
         END { if (count != 10 || length(n) != 10) exit 1 }' "$2"
}

# The system's own tar finds the files, whole; what cannot be read or written is told by the exit
# code, and does not keep the rest from being done.
check_26_pipeline() {
    local out=$tmp/pipeline
    rm -rf "$out" && mkdir "$out" && tar -xzf build/pipeline.tar.gz -C "$out" || return 1
    diff -r examples "$out/examples" && cmp mtask.h "$out/mtask.h" || return 1
    ! build/26_pipeline "$out/a.tar.gz" examples "$tmp/none" >"$tmp/out" 2>"$tmp/err" || return 1
    grep -q "^$tmp/none: " "$tmp/err" && grep -q '; errors: 1$' "$tmp/out" || return 1
    tar -xzf "$out/a.tar.gz" -C "$out" && diff -r examples "$out/examples" || return 1
    [ ! -c /dev/full ] && return 0
    ! build/26_pipeline /dev/full examples . >"$tmp/out" 2>"$tmp/err" &&
        grep -q '^/dev/full: ' "$tmp/err"
}

check_29_select() {
    times_at_least "$1" "$2"
}

# As long as the longest, at least, and shorter than one after the other.
check_04_download() {
    awk '/It took/ { t = $(NF - 1); sum += t; if (t > longest) longest = t }
         /In all/ { total = $(NF - 1) }
         END { if (total < longest || total >= sum) {
                 print "longest " longest ", in sequence " sum ", but in all " total; exit 1 } }' "$2"
}

check_05_crawl() {
    awk '/pages in/ { total = $(NF - 1) }
         END { if (total < 2 || total >= 6) { print "in all " total; exit 1 } }' "$2"
}

# The archive is whole and holds the file, also an empty one; an error is told by the exit code.
check_06_async_zip() {
    local zip=$tmp/test.zip
    tail -n 1 "$2" | grep -q '^Main program waited' || return 1
    unzip -tqq build/myarchive.zip && unzip -p build/myarchive.zip mtask.h | cmp - mtask.h ||
        return 1
    : >"$tmp/empty"
    build/06_async_zip "$tmp/empty" "$zip" >"$tmp/out" && unzip -tqq "$zip" || return 1
    head -c 200000 /dev/urandom >"$tmp/random"
    build/06_async_zip "$tmp/random" "$zip" >"$tmp/out" && unzip -p "$zip" random |
        cmp - "$tmp/random" || return 1
    ! build/06_async_zip "$tmp/none" "$zip" >"$tmp/out" 2>"$tmp/err" &&
        grep -q "^cannot zip $tmp/none" "$tmp/err"
}

# How many threads of process $1 run, or are ready to.
ready_threads() {
    cat /proc/"$1"/task/*/stat 2>"$tmp/err" | sed 's/.*) //' | grep -c '^R'
}

# At every look all loops run or are ready to, so nothing but other processes keeps them from their
# cores. (The measured CPU time says less: it depends on the load of the machine.)
check_07_busy_loop() {
    local loops pid ready _
    [ -d /proc/self/task ] || return 0
    loops=$(sed -n 's/ busy threads.*//p' "$2")
    MTASK_EXAMPLE_SCALE=0.3 build/07_busy_loop >"$tmp/out" &
    pid=$!
    sleep 0.5
    for _ in 1 2 3 4 5; do
        ready=$(ready_threads "$pid")
        [ "$ready" -ge "$loops" ] || break
    done
    wait "$pid" && [ "$ready" -ge "$loops" ] && return 0
    echo "$ready of $loops loops were running or ready"
    return 1
}

# The lines named in the report are those that lock, and the cycle closes.
check_15_deadlock() {
    local line
    while read -r line; do
        sed -n "${line}p" examples/15_deadlock.c | grep -q 'mtask_mutex_lock(&lock_' && continue
        echo "line $line does not lock"
        return 1
    done < <(sed -n 's/.*15_deadlock\.c:\([0-9]*\)$/\1/p' "$2")
    awk '/ waits for / { waits[++n] = $1; lock[n] = $5 }
         / holds it since / { holds[n] = $1 }
         END { if (waits[1] != holds[2] || waits[2] != holds[1] || lock[1] == lock[2]) {
                 print "that is no cycle"; exit 1 } }' "$2"
}

check_18_semaphore() {
    local names
    names=$(grep -E '^Thread-[0-9]+$' "$2" | sort -u | wc -l)
    [ "$names" -eq 100 ] || {
        echo "$names different names, not 100"
        return 1
    }
}

# The sums are those of gzip; what cannot be read or written, and wrong arguments, are told by the
# exit code.
check_41_treesum() {
    local sum size name rest
    while read -r sum size name rest; do
        [ "$name" = total ] && continue
        rest=$(gzip -c <"$name" | tail -c 8 | od -An -t x4 -N 4 --endian=little)
        if [ "$sum" != "${rest// /}" ] || [ "$size" -ne "$(wc -c <"$name")" ]; then
            echo "$name: $sum, but gzip says$rest"
            return 1
        fi
    done <"$2"
    build/41_treesum "$tmp/none" LICENSE >"$tmp/out" 2>"$tmp/err"
    [ $? -eq 1 ] && grep -q "^41_treesum: $tmp/none: No such file" "$tmp/err" &&
        grep -q ' LICENSE$' "$tmp/out" || return 1
    build/41_treesum -p 0 LICENSE >"$tmp/out" 2>"$tmp/err"
    [ $? -eq 2 ] && grep -q '^usage: ' "$tmp/err" || return 1
    [ ! -c /dev/full ] && return 0
    build/41_treesum LICENSE >/dev/full 2>"$tmp/err"
    [ $? -eq 1 ] && grep -q 'cannot be written' "$tmp/err"
}

# on_terminal SCALE COMMAND PATTERN...: what the command writes to a terminal has each of the
# patterns. Where the system gives no pseudo terminal that is not looked at.
on_terminal() {
    local scale=$1 command=$2 pattern
    shift 2
    script -qefc true "$tmp/terminal" >"$tmp/out" 2>&1 </dev/null || return 0
    MTASK_EXAMPLE_SCALE=$scale script -qefc "$command" "$tmp/terminal" >"$tmp/out" 2>&1 \
        </dev/null || return 1
    for pattern in "$@"; do
        grep -aq -- "$pattern" "$tmp/terminal" || return 1
    done
}

# On a terminal the producer is green.
check_45_two_eaters() {
    on_terminal 0.01 build/45_two_eaters $'^\033\\[32;1m\\[producer\\]\033\\[0m is making'
}

# All have said hello before the first says it again; a thousand tasks sleep together.
check_47_hello() {
    times_at_least "$1" "$2" || return 1
    awk '/world/ && again { exit 1 } /again/ { again = 1 }' "$2" || return 1
    MTASK_EXAMPLE_SCALE=0.1 timeout 60 build/47_hello 1000 >"$tmp/out" || return 1
    awk '/again/ { n++ } END { if (n != 1000 || $3 < 1 || $3 >= 500) { print; exit 1 } }' "$tmp/out"
}

check_48_gather() {
    times_at_least "$1" "$2"
}

# What is told of the memory is what it took, about; and on a terminal there is a live count.
check_49_million() {
    local each
    each=$(sed -n 's/.* asleep at once; \([0-9]*\) bytes of memory each$/\1/p' "$2")
    if [ "$each" -le 1000 ] || [ "$each" -ge 32768 ]; then
        echo "$each bytes of memory for a coroutine"
        return 1
    fi
    build/49_million many >"$tmp/out"
    [ $? -eq 2 ] || return 1
    on_terminal 0.03 'build/49_million 500' '500 woken; none' \
        $'\r\033\\[K500 started, 500 asleep, 0 woken'
}

# same_as_tools [-n LINES] TEXT FIELD FILE: the system's own tools count the same.
same_as_tools() {
    local most=1000000 options=()
    [ "$1" = -n ] && most=$2 && options=(-n "$2") && shift 2
    build/51_line_generators "${options[@]}" "$@" >"$tmp/out" || return 1
    grep -F -e "$1" "$3" | head -n "$most" | awk "{ print \$$2 }" | LC_ALL=C sort | uniq -c |
        diff - "$tmp/out"
}

# The same as the tools; no more is read than needed, as endless input shows; an error is told by the
# exit code, and what came before it is counted.
check_51_line_generators() {
    local file=$tmp/lines
    same_as_tools MTASK_API 2 mtask.h && same_as_tools the 3 README.md &&
        same_as_tools '' 1 README.md && same_as_tools -n 7 e 2 LICENSE || return 1
    same_as_tools -n 0 e 2 LICENSE && same_as_tools none-of-these 1 LICENSE || return 1
    : >"$file" && same_as_tools '' 1 "$file" || return 1
    printf ' a\tb \n\n\n  b  a\nb a' >"$file"
    same_as_tools '' 1 "$file" && same_as_tools '' 2 "$file" && same_as_tools b 3 "$file" || return 1
    head -c 300000 /dev/zero | tr '\0' x >>"$file" && same_as_tools x 1 "$file" || return 1
    [ "$(yes 'a b' | timeout 20 build/51_line_generators -n 5 a 2 /dev/stdin)" = '      5 b' ] ||
        return 1
    build/51_line_generators a 1 "$tmp/none" >"$tmp/out" 2>"$tmp/err"
    [ $? -eq 1 ] && grep -q "^51_line_generators: $tmp/none: No such file" "$tmp/err" || return 1
    build/51_line_generators a 1 "$tmp" >"$tmp/out" 2>"$tmp/err"
    [ $? -eq 1 ] && grep -q "^51_line_generators: $tmp: Is a directory" "$tmp/err" || return 1
    build/51_line_generators a 0 LICENSE >"$tmp/out" 2>"$tmp/err"
    [ $? -eq 2 ] && grep -q '^usage: ' "$tmp/err"
}

check_52_cancel() {
    times_at_least "$1" "$2"
}

# A task begins when its letter has been read. And the host sleeps in between: it uses almost no CPU.
check_54_host_loop() {
    local TIMEFORMAT='%R %U %S'
    awk '/read/ { seen[$3] = 1 } /becomes/ && !seen[$2] { exit 1 }' "$2" || return 1
    { time MTASK_EXAMPLE_SCALE=0.5 build/54_host_loop >"$tmp/out"; } 2>"$tmp/time" || return 1
    awk '$2 + $3 >= $1 / 12 { print "seconds: " $1 ", on a CPU: " $2 + $3; exit 1 }' "$tmp/time"
}

# As long as eight rounds of five take; and on a terminal there is a bar.
check_55_at_most() {
    times_at_least "$1" "$2" || return 1
    on_terminal 0.1 build/55_at_most '##  *\] [0-9]* of 40, 5 at once'
}

# Nobody has waited longer than the program may run.
check_56_stuck_loop() {
    sed -n 's/.* waiting on .* for \([0-9.]*\) s;.*/\1/p' "$2" |
        awk '$1 > 60 { print "waits for " $1 " seconds"; exit 1 } END { if (NR != 3) exit 1 }'
}

check_57_joinall() {
    awk '/^cost time/ && $3 < 2 { print; exit 1 }' "$2"
}

# The lines of each host are mixed with those of the others.
check_58_wget() {
    awk '/header >/ { if (!($1 in first)) first[$1] = NR; last[$1] = NR }
         END { for (a in first) for (b in first) if (last[a] < first[b]) exit 1 }' "$2"
}

# start_server FILE COMMAND...: starts it, and waits until FILE, its Unix socket, is there.
start_server() {
    local file=$1 _
    shift
    timeout -k 1 60 "$@" >"$tmp/server.out" 2>"$tmp/server.err" &
    server=$!
    for _ in $(seq 200); do
        [ ! -S "$file" ] || return 0
        sleep 0.05
    done
    kill "$server"
    return 1
}

# Ends it as Ctrl-C or its system would; it has nothing to say about that.
stop_server() {
    kill "$1" "$server" && wait "$server" && [ ! -s "$tmp/server.err" ]
}

# A thousand requests take much less than one after the other (500 seconds). curl asks, too, twice over
# one connection.
check_59_web() {
    awk '/at once/ { if ($(NF - 1) < 0.5) exit 1 }' "$2" || return 1
    MTASK_EXAMPLE_SCALE=0.1 build/59_web -n 1000 >"$tmp/out" || return 1
    awk '/1000 right/ { ok = $(NF - 1) >= 0.5 && $(NF - 1) < 250 } END { if (!ok) { print; exit 1 } }' \
        "$tmp/out" || return 1
    start_server "$tmp/web" build/59_web "unix:$tmp/web" || return 1
    curl -sS --no-progress-meter --unix-socket "$tmp/web" http://here/ http://here/hello/Bob \
        http://here/none -w '%{http_code} %{num_connects}\n' >"$tmp/out" 2>&1
    stop_server -TERM || return 1
    printf '%s\n' '<h1>Index</h1>200 1' '<h1>hello, Bob!</h1>200 0' 'Not Found404 0' |
        diff - "$tmp/out"
}

# As long as its rounds of requests take.
check_61_site() {
    awk '/seconds$/ { if ($(NF - 1) < ($0 ~ /more than 1 request/ ? 2 : 1)) { print; exit 1 } }' "$2"
}

# One who does not read keeps nobody waiting, and misses something.
check_62_chat() {
    start_server "$tmp/chat" build/62_chat "unix:$tmp/chat" || return 1
    timeout 60 python3 - "$tmp/chat" <<'END' || return 1
import socket, sys
def come(name):
    s = socket.socket(socket.AF_UNIX)
    s.connect(sys.argv[1])
    lines = s.makefile()
    s.sendall(f"{name}\njoin all\n".encode())
    assert lines.readline() == "joined all\n"
    return s, lines
sleepy, _ = come("sleepy")
busy, lines = come("busy")
for i in range(4000):
    busy.sendall(b"say all %s %d\n" % (b"x" * 250, i))
    assert lines.readline().endswith(f" {i}\n"), i
busy.sendall(b"shout\n")
assert lines.readline() == "what?\n"
END
    stop_server -INT && grep -Eq '^server: 4000 messages, .* missed [1-9]' "$tmp/server.out"
}

# A shell sends the signals, too.
check_63_signals() {
    local pid n=0 signal _
    build/63_signals wait >"$tmp/out" 2>&1 &
    pid=$!
    for signal in '' USR1 HUP USR1 INT; do
        [ -z "$signal" ] || kill "-$signal" "$pid" || return 1
        n=$((n + 1))
        for _ in $(seq 200); do
            [ "$(wc -l <"$tmp/out")" -lt "$n" ] || break
            sleep 0.05
        done
    done
    for _ in $(seq 200); do
        kill -0 "$pid" 2>"$tmp/err" || break
        sleep 0.05
    done
    kill -KILL "$pid" 2>"$tmp/err"
    wait "$pid" && [ "$(wc -l <"$tmp/out")" -eq 6 ] && grep -q '^SIGINT: enough$' "$tmp/out"
}

check_64_children() {
    awk '/^in all/ && $3 < 1 { print; exit 1 }' "$2"
}

check_65_offload() {
    times_at_least "$1" "$2"
}

# curl knows the certificate, or refuses (60).
check_67_tls() {
    local curl=(curl -sS --no-progress-meter --unix-socket "$tmp/tls")
    start_server "$tmp/tls" build/67_tls "unix:$tmp/tls" "$tmp/certificate" || return 1
    "${curl[@]}" --cacert "$tmp/certificate" https://localhost/a https://localhost/b >"$tmp/out" 2>&1
    "${curl[@]}" https://localhost/c >"$tmp/refused" 2>&1
    [ $? -eq 60 ] || return 1
    stop_server -TERM || return 1
    printf 'you asked for %s\n' /a /b | diff - "$tmp/out"
}

# From a pipe, a file, a terminal and from nothing; whoever shares the input finds it as it was.
check_68_reminders() {
    local shared='import fcntl, os; print(fcntl.fcntl(0, fcntl.F_GETFL) & os.O_NONBLOCK)'
    build/68_reminders </dev/null >"$tmp/out" && [ ! -s "$tmp/out" ] || return 1
    printf '30 a\n10 b' >"$tmp/in"
    MTASK_EXAMPLE_SCALE=0.01 build/68_reminders <"$tmp/in" >"$tmp/out" || return 1
    printf '%s\n' 'in 30 s: a' 'in 10 s: b' '10.0: b' '30.0: a' >"$tmp/want"
    diff <(any_time "$tmp/want") <(any_time "$tmp/out") || return 1
    { printf '0 a\n'; sleep 0.1; printf '0 b\n'; } |
        { build/68_reminders && python3 -c "$shared"; } >"$tmp/out" || return 1
    [ "$(grep -c ': [ab]$' "$tmp/out")" -eq 4 ] && [ "$(tail -n 1 "$tmp/out")" = 0 ] || return 1
    on_terminal 0.01 'build/68_reminders; echo end=$?' 'end=0'
}

check_72_three_processes() {
    times_at_least "$1" "$2"
}

check_82_process_apply() {
    times_at_least "$1" "$2"
}

# The same primes as factor finds; a bar on a terminal; wrong arguments, and what cannot be written,
# are told by the exit code.
check_pfind_primes() {
    seq 0 30000 | factor | awk 'NF == 2 { print $2 }' >"$tmp/primes"
    build/pfind_primes -l 30000 | diff "$tmp/primes" - || return 1
    [ "$(build/pfind_primes -j 1 24 28)" = '0 primes from 24 to 28' ] || return 1
    build/pfind_primes -j 257 10 >"$tmp/out" 2>"$tmp/err"
    [ $? -eq 2 ] && grep -q '^usage: ' "$tmp/err" || return 1
    on_terminal 1 'build/pfind_primes 100000000' '5761455 primes' $'\r\033\\[K\\[#* *\\] [0-9]* %, [0-9]* s left' ||
        return 1
    [ ! -c /dev/full ] && return 0
    build/pfind_primes -l 10 >/dev/full 2>"$tmp/err"
    [ $? -eq 1 ] && grep -q 'cannot be written' "$tmp/err"
}

# ---- running ----

# Runs output $3 of example $1 (exit code $2) at time scale $4; prints what is wrong.
run_once() {
    local name=$1 code=$2 n=$3 scale=$4 got=$tmp/got status
    # shellcheck disable=SC2046  # the arguments are words
    MTASK_EXAMPLE_SCALE=$scale timeout 60 "build/$name" $(cat "$tmp/$n.args") >"$got" 2>"$tmp/err"
    status=$?
    [ "$status" -eq 124 ] && echo "it hangs" && return 1
    [ "$status" -eq "$code" ] || {
        echo "exit code $status, not $code"
        cat "$tmp/err"
        return 1
    }
    [ -s "$tmp/err" ] && echo "on standard error:" && cat "$tmp/err" && return 1
    compare "$(cat "$tmp/$n.kind")" "$tmp/$n.want" "$got" || return 1
    ! declare -F "check_$name" >/dev/null || "check_$name" "$tmp/$n.want" "$got"
}

# build_example FILE: by its first line; what goes wrong, and whether, is left in $tmp. Optimising most of
# mtask takes long: that is left out of small examples with a header that stands on the others.
build_example() {
    local name command
    name=$(basename "$1" .c)
    command=$(sed -n '1s|^// ||p' "$1")
    case $name in [0-9]*) ! grep -qE "mtask_(io|proc).h" "$1" || command=${command/ -O2 / -O0 } ;; esac
    command=${command/ cc / ${CC:-cc} ${EXAMPLE_FLAGS:-} }
    sh -c "$command" >"$tmp/$name.log" 2>&1 || touch "$tmp/$name.failed"
}
export -f build_example
export tmp

test_example() {
    local file=$1 name=$2 outputs code n
    [ ! -e "$tmp/$name.failed" ] || {
        cat "$tmp/$name.log"
        return 1
    }
    outputs=$(read_comment "$file")
    [ "$outputs" -gt 0 ] || {
        echo "the comment has no output"
        return 1
    }
    code=$(exit_code "$file")
    for n in $(seq "$outputs"); do
        run_once "$name" "$code" "$n" 0.01 >"$tmp/first" 2>&1 && continue
        run_once "$name" "$code" "$n" 0.1 && continue
        echo "(run with '$(cat "$tmp/$n.args")')"
        return 1
    done
}

files=()
for file in examples/*.c; do
    name=$(basename "$file" .c)
    [ -e "tests/test_$name.sh" ] && continue # has a test of its own
    [ $# -eq 0 ] || [[ " $* " == *" $name "* ]] || continue
    files+=("$file")
done
printf '%s\n' "${files[@]}" | xargs -P "$(nproc)" -I{} bash -c 'build_example {}'
for file in "${files[@]}"; do
    name=$(basename "$file" .c)
    if test_example "$file" "$name" >"$tmp/log" 2>&1; then
        echo "ok    $name"
        passed=$((passed + 1))
    else
        echo "FAIL  $name"
        head -n 30 "$tmp/log" | sed 's/^/      /'
        failed=$((failed + 1))
    fi
done
echo "examples: $passed passed, $failed failed"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
