#!/bin/sh
# Compares examples/pwc.c with GNU wc: standard output, messages and exit status, byte for byte.
# usage: tests/test_pwc.sh [compiler flags], for instance -fsanitize=thread
# MTASK_TEST_SEED chooses the random texts. Needs coreutils, findutils, awk; util-linux for the
# terminal and the other user.
set -u
if [ -z "${PWC_TIMEOUT-}" ]; then # what hangs has failed
    PWC_TIMEOUT=300 exec timeout 300 "$0" "$@"
fi
export LC_ALL=C
cd "$(dirname "$0")/.." || exit 1
. tests/program.sh
trap '' PIPE

# equal NAME WANTED GOT: two files.
equal() {
    if cmp -s "$2" "$3"; then
        pass
    else
        fail "$1"
        diff -a "$2" "$3" | head -n 6
    fi
}

# status NAME WANTED GOT: two numbers.
status() {
    if [ "$2" -eq "$3" ]; then
        pass
    else
        fail "$1: exit status $3 instead of $2"
    fi
}

# build SOURCE PROGRAM: by the source's own first line.
build() {
    command=$(sed -n '1s,^// ,,p' examples/pwc.c |
        sed "s|-o build/pwc examples/pwc.c|$flags -o '$2' '$1'|")
    case $command in
    *"-o '$2' '$1'"*) sh -c "$command" && [ -x "$2" ] && return ;;
    esac
    echo "FAILED: cannot build: $command"
    exit 1
}

# against NAME LIST OPTION PATH...: pwc OPTION PATH... with several numbers of threads, and wc
# OPTION with the names in LIST, each of them with both outputs in one file, in their order.
against() {
    name=$1
    list=$2
    option=$3
    shift 3
    # shellcheck disable=SC2086 # no option is no argument
    wc $option --files0-from="$list" >"$dir/want" 2>&1
    want=$?
    sed -i 's/^wc: /pwc: /' "$dir/want"
    for threads in 1 2 7; do
        # shellcheck disable=SC2086
        "$pwc" -j "$threads" $option -- "$@" >"$dir/got" 2>&1
        status "$name $option -j $threads" "$want" $?
        equal "$name $option -j $threads" "$dir/want" "$dir/got"
    done
}

# tree NAME OPTIONS PATH: all options for the files below a directory.
tree() {
    find "$3" -type f -print0 | sort -z >"$dir/list"
    for option in $2; do
        against "$1" "$dir/list" "${option#all}" "$3"
    done
}

# files NAME OPTIONS FILE...: the same for files as they are given.
files() {
    name=$1
    options=$2
    shift 2
    printf '%s\0' "$@" >"$dir/list"
    for option in $options; do
        against "$name" "$dir/list" "${option#all}" "$@"
    done
}

# noise BYTES ALPHABET: random bytes drawn from the alphabet, a list of octal numbers.
noise() {
    seed=$((seed + 1))
    # shellcheck disable=SC2059 # the escapes are the point
    printf "$(awk -v seed="$seed" -v n="$1" -v alphabet="$2" 'BEGIN {
        srand(seed)
        count = split(alphabet, bytes, " ")
        for (i = 0; i < n; i++)
            printf "\\%s", bytes[int(rand() * count) + 1]
    }')"
}

echo "seed: $seed"
pwc=$dir/pwc
build examples/pwc.c "$pwc"

# Since coreutils 9.5 bytes that are not printable make words, too: compare words only in texts.
options='all -l -w -c -lw -wc'
texts=$options
if [ "$(printf '\001' | wc -w)" -ne 0 ]; then
    echo "this wc is newer than 9.4: words are compared in plain texts only"
    options='-l -c -lc'
fi

# ---- trees ----

mkdir -p "$dir/tree/a b/c" "$dir/tree/a.d" "$dir/tree/empty"
noise 3000 '141 142 172 040 012' >"$dir/tree/text"
noise 500 '141 040 011 012 013 014 015 041 176' >"$dir/tree/a b/spaces"
printf 'no newline at the end' >"$dir/tree/a b/c/unended"
printf '\n\n' >"$dir/tree/a.d/lines"
printf ' \t\v\f\r\n' >"$dir/tree/a.d/blank"
: >"$dir/tree/nothing"
printf 'x' >"$dir/tree/name with  spaces"
printf 'x y\n' >"$dir/tree/new
line"
printf 'x y\n' >"$dir/tree/$(printf "'it''s\n\n\ttab\033[1m\377\"\\\\\$\n.")"
ln -s text "$dir/tree/link"
ln -s "a b" "$dir/tree/link to directory"
ln -s nowhere "$dir/tree/dangling"
mkfifo "$dir/tree/fifo"
tree 'small tree' "$texts" "$dir/tree"
tree 'tree with a slash' all "$dir/tree/"
tree 'no file' all "$dir/tree/empty"
find "$dir/tree/link to directory/" -type f -print0 | sort -z >"$dir/list"
against 'tree behind a link' "$dir/list" '' "$dir/tree/link to directory/"

noise 2000 '000 001 040 141' >"$dir/tree/a b/nuls"
noise 2000 '303 251 240 040 012' >"$dir/tree/accents"
for i in 0 1 2 3 4 5 6 7 8 9 a b c d e f; do # every length about a multiple of 16
    for length in 1 2 3; do
        noise "$(printf '%d' "0x$length$i")" '000 141 040 012 200' >"$dir/tree/length $length$i"
    done
done
every=$(awk 'BEGIN { for (i = 0; i < 256; i++) printf "%03o ", i }')
noise 2000 "$every" >"$dir/tree/binary"
for byte in $every; do
    # shellcheck disable=SC2059
    printf " \\$byte a\\$byte\\$byte"
done >"$dir/tree/every byte"
tree 'binary' "$options" "$dir/tree"
tree '/usr/include' "$options" /usr/include

# ---- files as arguments: width, total, errors ----

text=$dir/tree/text
files 'one file' "$texts" "$text"
files 'one empty file' "$texts" "$dir/tree/nothing"
files 'the same file twice' "$texts" "$text" "$text"
files 'link' "$texts" "$dir/tree/link"
files 'devices are wide' "$texts" /dev/null "$text"
files 'one device' "$texts" /dev/null
files 'sizes unknown before' 'all -l' /proc/cpuinfo /proc/version
files 'the size of the last page' '-c all' /sys/kernel/mm/transparent_hugepage/enabled
files 'not there' "$texts" "$dir/none" "$text"
files 'only that' "$texts" "$dir/none"
files 'names to be quoted' all "$dir/no ne" "$dir/it's" "$dir/it's no" "$dir/it's \"" "$dir/a:b" \
    "$dir/a'\$b" "$dir/a'#" "$dir/\\" "$dir/new
line" "$dir/$(printf '\001x\177')" '#none' 'none#' '~none' 'no{}ne' "$dir/=" "$dir/*" "$text"
files 'dangling link' "$texts" "$text" "$dir/tree/dangling" "$text"
files 'file as a directory' all "$text/none" "$text"
files 'reading fails' "$texts" "$text" /proc/self/mem "$text"
files 'only reading fails' "$texts" /proc/self/mem

# ---- as a user who may not read everything ----

printf 'secret\n' >"$dir/tree/a b/unreadable"
mkdir "$dir/tree/closed" "$dir/tree/listed"
printf 'x\n' >"$dir/tree/closed/file"
printf 'x\n' >"$dir/tree/listed/file"
chmod 000 "$dir/tree/a b/unreadable"
user=
if [ "$(id -u)" -eq 0 ]; then
    user='setpriv --reuid=65534 --regid=65534 --clear-groups'
fi
if $user test -r "$text" && ! $user test -r "$dir/tree/a b/unreadable"; then
    find "$dir/tree" -type f -print0 | sort -z >"$dir/list"
    chmod 755 "$dir/pwc"
    # shellcheck disable=SC2086
    {
        $user wc -lc --files0-from="$dir/list" >"$dir/want" 2>&1
        $user "$pwc" -lc "$dir/tree" >"$dir/got" 2>&1
        status 'unreadable file' 1 $?
        sed -i 's/^wc: /pwc: /' "$dir/want"
        equal 'unreadable file' "$dir/want" "$dir/got"

        chmod 000 "$dir/tree/closed"
        chmod 744 "$dir/tree/listed"
        find "$dir/tree" -type f ! -path '*/closed/*' -print0 | sort -z >"$dir/list"
        $user wc -lc --files0-from="$dir/list" >"$dir/want" 2>"$dir/want.err"
        $user "$pwc" -lc "$dir/tree" >"$dir/got" 2>"$dir/got.err"
        status 'unreadable directory' 1 $?
        # wc is told the size of the file that it cannot reach as little as pwc is
        equal 'unreadable directory' "$dir/want" "$dir/got"
        { echo "pwc: $dir/tree/closed: Permission denied"; sed 's/^wc: /pwc: /' "$dir/want.err"; } \
            >"$dir/want"
        equal 'unreadable directory: messages' "$dir/want" "$dir/got.err"
    }
else
    echo 'skipped: unreadable files (no setpriv)'
fi
chmod 755 "$dir/tree/closed" "$dir/tree/listed"
rm -rf "$dir/tree/closed" "$dir/tree/listed" "$dir/tree/a b/unreadable"

# ---- big files: parts and their borders ----

mkdir "$dir/big"
noise 65521 '141 142 040 012 172 141 142' >"$dir/block" # a prime: the borders fall everywhere
for i in 1 2 3 4; do cat "$dir/block"; done >"$dir/blocks"
i=0
while [ $i -lt 80 ]; do
    cat "$dir/blocks"
    i=$((i + 1))
done >"$dir/big/words"
head -c 13000000 /dev/zero | tr '\0' x >"$dir/big/one word, one line"
head -c 13000000 /dev/zero | tr '\0' ' ' >"$dir/big/no word"
head -c 13000000 /dev/zero | tr '\0' '\n' >"$dir/big/lines"
files 'big texts' 'all -l -w -c' "$dir/big/words" "$dir/big/one word, one line" "$dir/big/no word" \
    "$dir/big/lines"
{
    printf 'word'
    head -c 13000000 /dev/zero
    printf 'still the same, two '
    head -c 9000000 /dev/zero
    printf ' '
} >"$dir/big/zeros in words"
tree 'big files' "$(echo "$options" | cut -d ' ' -f 1-3)" "$dir/big"

# Sparse; in memory, where holes take none. wc would take half a minute for the words.
huge=$(mktemp /dev/shm/pwc.XXXXXX 2>/dev/null) || huge=$dir/huge
trap 'rm -rf "$dir" "$huge"' EXIT
truncate -s 4100M "$huge"
printf ' one two\n' >>"$huge"
echo "         1          2 4299161609 $huge" >"$dir/want"
"$pwc" "$huge" >"$dir/got" 2>&1
equal 'huge file' "$dir/want" "$dir/got"
rm "$huge"
rm -r "$dir/big"

# The same program with parts of 5 bytes, read 3 at a time, has borders everywhere in small files.
sed -e 's/PART_SIZE = 4 << 20/PART_SIZE = 5/' -e 's/BUFFER_SIZE = 128 << 10/BUFFER_SIZE = 3/' \
    examples/pwc.c >"$dir/tiny.c"
if cmp -s examples/pwc.c "$dir/tiny.c"; then
    fail 'the sizes of parts and buffers are not where this test looks for them'
fi
build "$dir/tiny.c" "$dir/tiny"
pwc=$dir/tiny
tree 'tiny parts' "$(echo "$options" | cut -d ' ' -f 1-3)" "$dir/tree"
pwc=$dir/pwc

# ---- files that grow ----

# Both programs look at all files, then wait at the FIFO; then the file grows.
mkfifo "$dir/gate"
for size in 10 5000000; do
    for program in want got; do
        head -c $size /dev/zero | tr '\0' x >"$dir/growing"
        if [ $program = want ]; then
            wc "$dir/gate" "$dir/growing" >"$dir/want" &
        else
            "$pwc" -j 1 "$dir/gate" "$dir/growing" >"$dir/got" &
        fi
        exec 3>"$dir/gate" # it has opened the FIFO
        head -c 12000000 "$dir/block" /dev/zero /dev/zero | tr '\0' 'y' >>"$dir/growing"
        echo 'go on' >&3
        exec 3>&-
        wait $!
    done
    equal "file of $size bytes that grows" "$dir/want" "$dir/got"
done

# ---- arguments, output, terminal ----

for arguments in '' '-j 0 x' '-j x x' '-z x'; do
    # shellcheck disable=SC2086
    "$pwc" $arguments >"$dir/got" 2>&1
    status "arguments '$arguments'" 2 $?
done
"$pwc" -j 100000 "$text" >/dev/null
status 'more threads than there are' 0 $?
"$pwc" "$text" >/dev/full 2>"$dir/got"
status 'output that cannot be written' 1 $?

# On a terminal: the FIFO keeps pwc waiting until the bar is there.
terminal() { # OPTIONS SECONDS: with SECONDS waits so long instead
    rm -f "$dir/terminal"
    script -qefc "'$pwc' $1 -j 2 '$dir/gate' '$dir/tree' >'$dir/got'" "$dir/terminal" \
        >/dev/null 2>&1 </dev/null &
    exec 3>"$dir/gate"
    tries=0
    while ! grep -aq 'files, .*MB/s' "$dir/terminal" && [ $tries -lt "$2" ]; do
        sleep 0.1
        tries=$((tries + 1))
    done
    echo 'go on' >&3
    exec 3>&-
    wait $!
}
# Only where there are pseudo terminals: a bare container may have none.
if script -qefc true "$dir/terminal" >/dev/null 2>&1 </dev/null; then
    { printf '%s\0' "$dir/gate"; find "$dir/tree" -type f -print0 | sort -z; } >"$dir/list"
    wc -lc --files0-from="$dir/list" >"$dir/want" &
    echo 'go on' >"$dir/gate"
    wait $!
    terminal -lc 200
    status 'progress bar on a terminal' 0 $?
    equal 'standard output beside the bar' "$dir/want" "$dir/got"
    if grep -aq "\[#* *\] [0-9]*/[0-9]* files, [0-9]* MB/s" "$dir/terminal"; then
        pass
    else
        fail 'there is a progress bar'
    fi
    printf '\r\033[K' >"$dir/want"
    grep -av '^Script' "$dir/terminal" | tr -d '\n' | tail -c 4 >"$dir/erased"
    equal 'the bar is erased' "$dir/want" "$dir/erased"
    terminal '-q -lc' 4
    if grep -aq MB/s "$dir/terminal"; then
        fail 'no progress bar with -q'
    else
        pass
    fi
else
    echo 'skipped: terminal (no script)'
fi

echo "pwc: $passed passed, $failed failed"
[ "$failed" -eq 0 ]
