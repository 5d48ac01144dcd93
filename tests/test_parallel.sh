#!/bin/sh
# Tests examples/parallel.c: what commands write, and how many fail, is compared with xargs -P; then
# time-outs, retries, odd input, signals. usage: tests/test_parallel.sh [compiler flags]; with flags
# only that one build. Needs GNU findutils, python3, util-linux.
# shellcheck disable=SC2016,SC1003,SC2086 # commands are not for this shell; $runner is a list of words
set -u
if [ -z "${PARALLEL_TIMEOUT-}" ]; then # what hangs has failed
    PARALLEL_TIMEOUT=240 exec timeout 240 "$0" "$@"
fi
export LC_ALL=C
cd "$(dirname "$0")/.." || exit 1
. tests/program.sh
example=parallel
runner=

# ---- what a run gives ----

# run WANTED ARGUMENT...: runs parallel on $dir/in; its exit status must be WANTED.
run() {
    wanted=$1
    shift
    timeout 60 $runner "$parallel" "$@" <"$dir/in" >"$dir/out" 2>"$dir/err"
    got=$?
    check "exit status $got, not $wanted: parallel $*" [ "$got" -eq "$wanted" ]
}

# lines TEXT...: these are the input.
lines() {
    printf '%s\n' "$@" >"$dir/in"
}

# gives TEXT: what the last run has printed.
gives() {
    printf '%s' "$1" >"$dir/want"
    check "it does not print what it should: $1" cmp -s "$dir/want" "$dir/out"
}

# says TEXT: the last run printed that line to standard error, and nothing else.
says() {
    printf '%s\n' "$1" >"$dir/want"
    check "it does not say '$1'" cmp -s "$dir/want" "$dir/err"
}

# quiet: the last run printed nothing to standard error.
quiet() {
    check 'it says something' [ ! -s "$dir/err" ]
}

# bytes: those of the input, sorted: xargs -P mixes what its commands write.
bytes() {
    od -An -v -tx1 -w1 | sort
}

# as_xargs N [COMMAND...]: prints, in order and not, what `xargs -P` prints; N of them fail.
as_xargs() {
    count=$1
    shift
    if [ $# -eq 0 ]; then
        set -- sh -c
        line_mode=1
    else
        line_mode=
    fi
    xargs -d '\n' -n 1 -P 1 "$@" <"$dir/in" >"$dir/ordered" 2>/dev/null
    xargs -d '\n' -n 1 -P 3 "$@" <"$dir/in" 2>/dev/null | bytes >"$dir/sorted"
    [ -z "$line_mode" ] || shift 2
    run "$count" -j 3 "$@"
    check "another output than of xargs: $*" cmp -s "$dir/ordered" "$dir/out"
    run "$count" -j 3 -u "$@"
    bytes <"$dir/out" >"$dir/got"
    check "another output than of xargs -P: $*" cmp -s "$dir/sorted" "$dir/got"
}

# ---- checks ----

order() {
    # the first are the slowest; xargs -P would print them last
    for i in 1 2 3 4 5 6 7 8; do
        echo "sleep 0.0$((9 - i)); echo line $i; echo again $i"
    done >"$dir/in"
    as_xargs 0
    quiet
    # the third is not started before the second has ended, and the first waits for it
    lines "while [ ! -e '$dir/go' ]; do sleep 0.01; done; echo slow" 'echo fast' ": >'$dir/go'"
    run 0 -j 2 --unordered
    gives 'fast
slow
'
    seq 200 | sed 's/^/echo /' >"$dir/in"
    as_xargs 0
    seq 100 >"$dir/in"
    as_xargs 0 printf '<%s>\n'
    ls mtask*.h >"$dir/in"
    as_xargs 0 md5sum
    as_xargs 0 wc -l
    sed 's/$/ | grep -c static/; s/^/cat /' "$dir/in" >"$dir/lines"
    cp "$dir/lines" "$dir/in"
    as_xargs 0
    ls tests/*.txt LICENSE Makefile >"$dir/in"
    as_xargs 0 gzip -nc
    # while the first runs, more waits than it likes to hold in memory
    lines 'sleep 0.2; echo first'
    for i in 1 2 3 4 5; do
        echo "head -c 20000000 /dev/zero; echo $i"
    done >>"$dir/in"
    seq 9 | sed 's/^/echo /' >>"$dir/in"
    run 0 -j 3
    sh "$dir/in" >"$dir/want"
    check 'much output is not whole' cmp -s "$dir/want" "$dir/out"
}

whole() {
    for i in 1 2 3 4 5 6 7 8 9; do
        echo "echo $i; sleep 0.0$i; echo $i; sleep 0.02; seq 20000 | sed 's/.*/$i/'"
    done >"$dir/in"
    run 0 -j 4 -u
    check 'output is mixed' [ "$(uniq "$dir/out" | wc -l)" -eq 9 ]
    check 'output is not whole' [ "$(wc -l <"$dir/out")" -eq 180018 ]
    lines 'echo out; echo err >&2; echo more' 'echo err2 >&2'
    run 0
    gives 'out
more
'
    says 'err
err2'
}

codes() {
    lines 'exit 1' true 'exit 255' 'kill -9 $$' false 'exit 0' mtask-no-such-program /tmp
    as_xargs 6
    run 6 -q
    cp "$dir/err" "$dir/others"
    check 'not quiet' [ "$(grep -c '^parallel: ' "$dir/err")" -eq 0 ]
    run 6
    grep -v '^parallel: ' "$dir/err" | diff - "$dir/others" >/dev/null
    check 'other messages' [ $? -eq 0 ]
    grep '^parallel: ' "$dir/err" >"$dir/told"
    printf 'parallel: line %s\n' '1: exit status 1: exit 1' '3: exit status 255: exit 255' \
        '4: signal 9: kill -9 $$' '5: exit status 1: false' \
        '7: exit status 127: mtask-no-such-program' '8: exit status 126: /tmp' >"$dir/want"
    check 'it does not tell which have failed' cmp -s "$dir/want" "$dir/told"
    seq 100 | sed 's/.*/false/' >"$dir/in"
    run 100 -q
    seq 300 | sed 's/.*/exit 3/' >"$dir/in"
    run 101 -q
    lines a b
    run 2 mtask-no-such-program
    says "parallel: line 1: there is no such thing: mtask-no-such-program a
parallel: line 2: there is no such thing: mtask-no-such-program b"
}

timeouts() {
    lines 'sleep 100' 'echo begun; sleep 100; echo no' 'echo fast' 'sleep 100 & echo $!'
    run 3 -j 4 -t 0.2
    sed -i '$d' "$dir/out"
    gives 'begun
fast
'
    check 'it does not tell of time-outs' [ "$(grep -c 'it took too long' "$dir/err")" -eq 3 ]
    lines 'trap "echo asked; exit 0" TERM; sleep 100 & wait'
    run 1 --timeout=0.2
    gives 'asked
'
    says 'parallel: line 1: it took too long: trap "echo asked; exit 0" TERM; sleep 100 & wait'
    lines 'trap "" TERM; echo $$; while :; do sleep 1; done'
    run 1 -t 0.1
    check 'it is not killed' [ ! -e "/proc/$(cat "$dir/out")" ]
    lines 'sleep 0.01'
    run 0 -t 1000
}

retries() {
    # the one that gets N succeeds when it is tried after N failures
    try='echo "$0" >>"'$dir'/tries"; test "$(grep -c "^$0\$" "'$dir'/tries")" -gt "$0"'
    : >"$dir/tries"
    seq 6 >"$dir/in"
    run 4 -q -j 3 -r 2 sh -c "$try"
    check 'it tries too often, or not often enough' [ "$(wc -l <"$dir/tries")" -eq 17 ]
    : >"$dir/tries"
    lines 7
    run 0 -r 100 sh -c "$try && echo \$0"
    gives '7
'
    check 'it tries on' [ "$(wc -l <"$dir/tries")" -eq 8 ]
    lines 'echo "$$"; exit 1'
    run 1 -q -r 3
    check 'it prints more than the last try' [ "$(wc -l <"$dir/out")" -eq 1 ]
}

odd() {
    : >"$dir/in"
    run 0
    run 0 -j 7 echo
    gives ''
    lines '' '   ' 'echo a' '	' '# a comment' 'echo b # another'
    run 0
    gives 'a
b
'
    lines '' a
    run 0 echo '[{}]'
    gives '[]
[a]
'
    printf 'echo a\necho b' >"$dir/in"
    as_xargs 0
    printf 'a\nb' >"$dir/in"
    as_xargs 0 echo
    lines "echo 'a  b' \"c  d\" e\\ \\ f" 'echo  g	 h  ' 'echo ~ | wc -l' 'echo *.md' 'echo a;echo b' \
        'A=1 sh -c "echo \$A"' 'echo $((1+2)) `echo 3` $(echo 4)' 'echo {a,b}' 'echo a=b c:d e@f %g' \
        'cd /; pwd' 'if true; then echo yes; fi' ': nothing' 'echo grüße ñ' 'echo a& wait' 'echo !x' \
        'export A=1' 'umask 022' 'cd /tmp' 'echo "' 'exit 3' 'echo [m]task.h' 'echo a >/dev/null' \
        './mtask-none' 'echo -n x' 'test 1 = 1' 'echo a\tb' 'printf %s a b' '=' 'a=b' 'if'
    as_xargs 5
    lines "it's" 'a  b' '$HOME' '*' '"quoted"' '\' '-n' 'a;b' '{}' 'x{}y' '  blanks  ' 'grüße'
    as_xargs 0 printf '<%s>\n'
    xargs -d '\n' -I{} printf '<%s %s>\n' 'a{}b{}' {} <"$dir/in" >"$dir/want"
    run 0 printf '<%s %s>\n' 'a{}b{}' '{}'
    check 'not filled in as by xargs -I{}' cmp -s "$dir/want" "$dir/out"
    { printf 'echo'; seq -s ' ' 60000 | sed 's/^/ /'; } >"$dir/in" # longer than a shell's line may be
    run 0
    { echo; cat "$dir/in"; } | sed 's/^echo //; 1d' >"$dir/want"
    check 'long lines' cmp -s "$dir/want" "$dir/out"
    printf 'a b\nc\0echo "x\ny"\0\0' >"$dir/in"
    xargs -0 -n 1 echo <"$dir/in" >"$dir/want"
    run 0 -0 echo
    check 'lines that end in a zero byte' cmp -s "$dir/want" "$dir/out"
    printf 'echo a\0b\necho c\n' >"$dir/in"
    run 1
    gives 'c
'
    lines cat 'echo a'
    run 0 -j 1
    gives 'a
'
}

dry() {
    lines "touch $dir/made" 'echo "a  b" | cat'
    run 0 -n
    check 'another text' cmp -s "$dir/in" "$dir/out"
    check 'it runs commands' [ ! -e "$dir/made" ]
    lines "it's" 'a  b' '$HOME' '*' '"q"' '\' '' 'a;b' 'plain' '~' '-x' 'a=b' "''" '#'
    run 0 -j 2 --dry-run printf '<%s %s>\n' 'x{}' -- {}
    mv "$dir/out" "$dir/dry"
    run 0 printf '<%s %s>\n' 'x{}' -- {}
    sh "$dir/dry" >"$dir/want"
    check 'a shell does not do what is printed' cmp -s "$dir/want" "$dir/out"
}

at_once() {
    # each waits until three are there; none finds more
    line='echo >'$dir'/room/{}; while [ $(ls "'$dir'/all" "'$dir'/room" | grep -c "^[0-9]") -lt 3 ]; do
        sleep 0.01; done; : >'$dir'/all/{}; ls '$dir'/room | wc -l; sleep 0.02; rm '$dir'/room/{}'
    mkdir "$dir/room" "$dir/all"
    seq 9 >"$dir/in"
    run 0 -j 3 sh -c "$line"
    check 'not as many at a time as it should' [ "$(sort -n "$dir/out" | tail -n 1)" -eq 3 ]
    rm -r "$dir/room" "$dir/all"
}

halt() {
    lines true false 'echo late' 'echo later'
    run 1 -j 1 -q
    gives 'late
later
'
    run 1 -j 1 -q --halt=soon
    gives ''
    run 1 -j 1 -q --halt=never
    lines 'echo a; sleep 0.1; echo b' 'sleep 0.02; false' 'sleep 0.5' 'echo late'
    run 1 -j 2 -q --halt=soon
    gives 'a
b
'
    lines 'echo begun; sleep 100; echo no' 'sleep 0.1; false' 'echo late'
    run 1 -j 2 --halt=now
    gives 'begun
'
    says 'parallel: line 2: exit status 1: sleep 0.1; false'
}

trouble() {
    run_in=$dir/in
    mkdir "$dir/directory"
    timeout 60 $runner "$parallel" <"$dir/directory" >"$dir/out" 2>"$dir/err"
    check 'a directory as input' [ $? -eq 255 ]
    says 'parallel: cannot read: Is a directory'
    lines 'echo a' 'sleep 100'
    timeout 60 $runner "$parallel" <"$run_in" >/dev/full 2>"$dir/err"
    check 'a full device' [ $? -eq 255 ]
    says 'parallel: cannot write: No space left on device'
    timeout 60 $runner "$parallel" <&- >"$dir/out" 2>"$dir/err"
    check 'no input at all' [ $? -eq 255 ]
    prlimit --nofile=100:100 timeout 60 $runner "$parallel" -j 50 <"$run_in" >"$dir/out" \
        2>"$dir/err"
    check 'too few descriptors' [ $? -eq 255 ]
    for arguments in '-j 0' '-j x' '-j -1' '-j 99999999999' '-t 0' '-t x' '-t -1' '-t nan' '-r -1' \
        '--halt=x' '--what' '-Z' '-j' '--jobs'; do
        run 255 $arguments
        check "no hint: $arguments" grep -q 'parallel --help tells more' "$dir/err"
    done
    run 0 --help
    check 'help' grep -q '^usage: parallel ' "$dir/out"
    lines --help -j
    run 0 echo -j
    gives '-j --help
-j -j
'
}

progress() {
    lines 'sleep 0.15' 'echo out; false' 'sleep 0.1'
    run 1 -q --progress
    quiet
    timeout 60 script -qec "$runner '$parallel' --progress -j 2 <'$dir/in'" /dev/null >"$dir/out" \
        </dev/null
    check 'no progress' grep -q 'done, [0-9]* failed, [0-9]* running' "$dir/out"
    check 'the output is not on a line of its own' \
        sh -c "tr '\\r' '\\n' <'$dir/out' | sed 's/^.\\[K//' | grep -q '^out\$'"
}

# ---- signals and pipes ----

cat >"$dir/checks.py" <<'END'
import os, signal, subprocess, sys, time

PARALLEL, DIRECTORY = sys.argv[1].split("|"), sys.argv[2]
PIDS = f"{DIRECTORY}/pids"
good = bad = 0


def check(holds, text):
    global good, bad
    good += bool(holds)
    bad += not holds
    if not holds:
        print("FAILED:", text)


def running(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
            return file.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


def wait_for(condition, text):
    for _ in range(3000):
        if condition():
            return
        time.sleep(0.01)
    check(False, text)


def pids():
    try:
        with open(PIDS, encoding="utf-8") as file:
            return [int(line) for line in file if line.endswith("\n")]
    except OSError:
        return []


SLEEP = f"echo $$ >>{PIDS}; sleep 100 & echo $! >>{PIDS}; wait\n"


def begin(*arguments, lines=2 * SLEEP, close=True, ignored=(), **more):
    """Starts it; returns when two commands run, and two of theirs."""
    if os.path.exists(PIDS):
        os.remove(PIDS)

    def prepare():
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM, signal.SIGPIPE):
            signal.signal(number, signal.SIG_IGN if number in ignored else signal.SIG_DFL)

    more.setdefault("stdout", subprocess.DEVNULL)
    process = subprocess.Popen(PARALLEL + ["-j", "2", *arguments], stdin=subprocess.PIPE,
                               stderr=subprocess.PIPE, preexec_fn=prepare, **more)
    process.stdin.write(lines.encode())
    process.stdin.flush()
    if close:
        process.stdin.close()
    wait_for(lambda: len(pids()) == 4, "the commands do not begin")
    return process


def ends(process, wanted, name, says=""):
    """It ends so, and with it all commands."""
    code = process.wait(60)
    check(code == wanted, f"{name}: exit code {code}, not {wanted}")
    text = process.stderr.read().decode()
    check(text == says, f"{name}: it says {text!r}")
    wait_for(lambda: not any(map(running, pids())), f"{name}: commands are left")


def signals():
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        for close in (True, False):  # False: it waits for more input
            process = begin(close=close)
            process.send_signal(number)
            ends(process, -number, f"{number!r}, input closed: {close}")
    process = begin(ignored=[signal.SIGHUP, signal.SIGINT])
    process.send_signal(signal.SIGHUP)
    process.send_signal(signal.SIGINT)
    time.sleep(0.1)
    check(process.poll() is None, "it does not ignore what nohup ignores")
    process.send_signal(signal.SIGTERM)
    ends(process, -signal.SIGTERM, "SIGTERM, the others ignored")


def nobody_reads():
    flood = "yes | head -c 1000000\n"
    read, write = os.pipe()
    process = begin("-u", lines=SLEEP + flood + SLEEP, stdout=write)
    os.close(write)
    process.send_signal(signal.SIGTERM)
    ends(process, -signal.SIGTERM, "SIGTERM while it cannot write")
    os.close(read)
    read, write = os.pipe()
    process = begin("-u", lines=SLEEP + flood + SLEEP, stdout=write)
    os.close(write)
    os.close(read)
    ends(process, -signal.SIGPIPE, "the reader goes away")


def halts():
    process = begin("--halt=now", "-q", lines=SLEEP + f"echo $$ >>{PIDS}; echo $$ >>{PIDS}; "
                    f"sleep 0.1; exit 1\n", close=False)
    ends(process, 1, "--halt=now while it waits for input")
    process.stdin.close()


signals()
nobody_reads()
halts()
print(good, bad)
END

signals() {
    python3 "$dir/checks.py" "$(echo $runner "$parallel" | tr ' ' '|')" "$dir" >"$dir/log" 2>"$dir/err"
    check 'checks.py' [ $? -eq 0 ]
    grep '^FAILED' "$dir/log"
    # shellcheck disable=SC2046 # two numbers
    set -- $(awk '/^[0-9]/ { good += $1; bad += $2 } END { print good + 0, bad + 0 }' "$dir/log")
    passed=$((passed + $1))
    failed=$((failed + $2))
}

# ---- builds ----

essentials() {
    order
    whole
    signals
    rm "$dir/go"
}

all() {
    essentials
    codes
    timeouts
    retries
    odd
    dry
    at_once
    halt
    trouble
    progress
    rm -rf "$dir/directory"
}

# use PROGRAM: the one to be tested; false if it could not be built.
use() {
    parallel=$1
    cp "$1.log" "$dir/err"
    check "cannot build $1" [ -x "$1" ]
    [ -x "$1" ] && find_runner "$1"
}

if [ -n "$flags" ]; then
    build "$dir/parallel" "${CC:-cc}" "$flags"
    use "$dir/parallel" && all
else
    warnings='-O1 -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wundef -Werror'
    asan='-O0 -g -fsanitize=address,undefined -fno-sanitize-recover=all'
    build "$dir/asan" "clang -std=c11" "$warnings $asan" &
    build "$dir/plain" "${CC:-cc}" "$warnings"
    wait $!
    use "$dir/asan" && all
    use "$dir/plain" && essentials
fi

echo "parallel: $passed passed, $failed failed"
[ "$failed" -eq 0 ]
