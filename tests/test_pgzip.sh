#!/bin/sh
# Tests examples/pgzip.c: what it packs is read back by gzip, pigz and Python; what it unpacks,
# replaces, refuses and says of damaged files is compared with gzip.
# usage: tests/test_pgzip.sh [compiler flags]; with flags only that one build.
# MTASK_TEST_SEED chooses the random bytes. Needs gzip, python3, zlib; pigz if it is there;
# util-linux for the terminal, the other user and the full disk.
# shellcheck disable=SC2086 # $runner and the like are lists of words
set -u
if [ -z "${PGZIP_TIMEOUT-}" ]; then # what hangs has failed
    PGZIP_TIMEOUT=600 exec timeout 600 "$0" "$@"
fi
export LC_ALL=C
cd "$(dirname "$0")/.." || exit 1
flags="$*"
seed=${MTASK_TEST_SEED:-$$}
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
trap 'exit 1' HUP INT TERM
chmod 755 "$dir"
passed=0
failed=0
runner=
# Under TSan a program sleeps for a second before it exits. TSan cannot count on a signal's return.
export TSAN_OPTIONS="halt_on_error=1:atexit_sleep_ms=0${TSAN_OPTIONS:+:$TSAN_OPTIONS}"

pass() {
    passed=$((passed + 1))
}

fail() {
    failed=$((failed + 1))
    echo "FAILED: $*"
    head -n 6 "$dir/err" 2>/dev/null | sed 's/^/    /'
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

# build PROGRAM COMPILER SOURCE FLAG...: by the source's own first line.
build() {
    program=$1
    compiler=$2
    source=$3
    shift 3
    command=$(sed -n '1s,^// ,,p' examples/pgzip.c |
        sed "s|&& cc |\&\& $compiler $* |;s|-o build/pgzip examples/pgzip.c|-o '$program' '$source'|")
    case $command in
    *"$compiler $* "*"-o '$program' '$source'"*)
        sh -c "$command" >"$dir/err" 2>&1 && [ -x "$program" ] && return
        ;;
    esac
    echo "command: $command" >>"$dir/err"
    return 1
}

# find_runner PROGRAM: what TSan programs need in front to run on this kernel: nothing, or setarch.
find_runner() {
    runner=
    "$1" </dev/null >/dev/null 2>&1 ||
        { setarch -R "$1" </dev/null >/dev/null 2>&1 && runner='setarch -R'; }
}

# run WANTED ARGUMENT...: runs pgzip, standard input as it is; its exit status must be WANTED.
run() {
    wanted=$1
    shift
    timeout 120 $runner "$pgzip" "$@" >"$dir/out" 2>"$dir/err"
    got=$?
    check "exit status $got, not $wanted: pgzip $*" [ "$got" -eq "$wanted" ]
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

# made FILE BYTES [KIND]: random bytes, or zeros, words, or a text that repeats itself at the
# greatest distance that the format knows, just less, and just more.
made() {
    seed=$((seed + 1))
    python3 - "$seed" "$2" "${3:-random}" >"$dir/$1" <<'END'
import random, sys

seed, size, kind = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
random.seed(seed)
if kind == "zeros":
    text = bytes(size)
elif kind == "random":
    text = random.randbytes(size)
elif kind == "words":
    words = [random.randbytes(random.randint(1, 9)).hex().encode() for _ in range(500)]
    text = b" ".join(random.choices(words, k=size // 3 + 1))[:size]
else:  # distance
    text = b""
    while len(text) < size:
        period = 32768 - random.choice([0, 1, 2, 261, 262, 263, -1])
        text += (random.randbytes(1000) + text[-period + 1000:] if len(text) > 40000
                 else random.randbytes(40000)) + text[-period:][:500]
    text = text[:size]
sys.stdout.buffer.write(text)
END
}

# reads COMMAND...: what the command unpacks from $dir/out is $dir/$text.
reads() {
    "$@" <"$dir/out" >"$dir/back" 2>"$dir/err"
    status=$?
    check "$*: exit status $status for $text" [ $status -eq 0 ]
    check "$*: something else than $text" cmp -s "$dir/$text" "$dir/back"
}

# packs TEXT OPTION...: packed from standard input, and unpacked by all.
packs() {
    text=$1
    shift
    run 0 "$@" <"$dir/$text"
    quiet
    reads gunzip
    reads timeout 120 $runner "$pgzip" -d -p 2
    [ -z "$pigz" ] || reads "$pigz" -d
}

# Takes a packed file apart: it must be one member, no longer than gzip's with a little for each
# block (the last argument: how much that may be, in bytes).
cat >"$dir/one.py" <<'END'
import sys, zlib

packed, text = open(sys.argv[1], "rb").read(), open(sys.argv[2], "rb").read()
unpacker = zlib.decompressobj(wbits=31)
assert unpacker.decompress(packed) + unpacker.flush() == text, "another text"
assert unpacker.eof and unpacker.unused_data == b"", "more than a member"
packer = zlib.compressobj(int(sys.argv[3]), wbits=31)
best = len(packer.compress(text) + packer.flush())
most = best + best // 100 + (len(text) // int(sys.argv[4]) + 1) * int(sys.argv[5])
assert len(packed) <= most, f"{len(packed)} bytes, but at most {most} expected ({best} as one block)"
END

block=131072
window=32768
pigz=$(command -v pigz) || echo 'skipped: pigz (not installed)'
echo "seed: $seed"

# ---- what is done with every build ----

essentials() {
    for text in zeros words random distance; do
        packs $text -p 3
    done
    packs empty -p 2
    # damaged: every block, member and worker ends well
    gzip -c "$dir/words" | head -c 100000 >"$dir/damaged"
    run 1 -d <"$dir/damaged"
    says 'pgzip: stdin: unexpected end of file'
    { gzip -c "$dir/words"; gzip -c "$dir/empty"; gzip -c "$dir/zeros"; echo garbage; } >"$dir/members"
    cat "$dir/words" "$dir/zeros" >"$dir/want.text"
    run 2 -d <"$dir/members"
    says 'pgzip: stdin: decompression OK, trailing garbage ignored'
    check 'members' cmp -s "$dir/want.text" "$dir/out"
    # replaced, and back
    mkdir "$dir/files"
    cp "$dir/words" "$dir/files/words"
    cp "$dir/empty" "$dir/files/empty"
    run 0 "$dir/files/words" "$dir/files/empty"
    check 'replaced' [ "$(ls "$dir/files" | xargs)" = 'empty.gz words.gz' ]
    run 0 -d "$dir/files/words.gz" "$dir/files/empty.gz"
    check 'and back' cmp -s "$dir/words" "$dir/files/words"
    rm -r "$dir/files"
    # a write error while the input waits
    timeout 60 $runner "$pgzip" -p 2 <"$dir/gate" >/dev/full 2>"$dir/err" &
    exec 3>"$dir/gate"
    cat "$dir/random" >&3
    wait $!
    check 'exit status for a full device, where the input waits' [ $? -eq 1 ]
    exec 3>&-
    says 'pgzip: stdout: No space left on device'
}

made zeros 1000000 zeros
made words 1500000 words
made random 700000
made distance 900000 distance
: >"$dir/empty"

mkfifo "$dir/gate"
pgzip=$dir/pgzip
if ! build "$pgzip" cc examples/pgzip.c $flags; then
    fail "cannot build"
    exit 1
fi
find_runner "$pgzip"
essentials
if [ -n "$flags" ]; then
    echo "pgzip: $passed passed, $failed failed"
    [ "$failed" -eq 0 ]
    exit
fi

# ---- sizes, kinds, levels, threads ----

made big 700000 words
for size in 0 1 2 3 100 $((window - 1)) $window $((window + 1)) $((block - 1)) $block $((block + 1)) \
    $((block + window - 1)) $((block + window)) $((block + window + 1)) $((2 * block - 1)) \
    $((2 * block)) $((2 * block + 1)) $((5 * block)); do
    for kind in words random zeros; do
        made text $size $kind
        packs text -p 2
        check "one member: $size bytes of $kind" \
            python3 "$dir/one.py" "$dir/out" "$dir/text" 6 $block 400 2>"$dir/err"
    done
done
cat "$dir/random" "$dir/words" "$dir/zeros" "$dir/distance" >"$dir/mixed"
for level in 1 2 3 4 5 6 7 8 9; do
    for threads in 1 2 3 4; do
        text=mixed
        run 0 -$level -p $threads <"$dir/mixed"
        reads gunzip
        [ $threads -ne 1 ] || cp "$dir/out" "$dir/one.gz"
        check "another result with $threads threads" cmp -s "$dir/one.gz" "$dir/out"
    done
    check "one member: level $level" \
        python3 "$dir/one.py" "$dir/out" "$dir/mixed" $level $block 400 2>"$dir/err"
done
for text in distance mixed words; do
    packs $text -9 -p 4
    packs $text -1 -p 4
done
packs mixed -p 100
reads zcat

# ---- the same program with blocks of 11 bytes, windows of 5: their ends are everywhere ----

sed -e 's/BLOCK = 128 << 10/BLOCK = 11/' -e 's/WINDOW = 32 << 10/WINDOW = 5/' examples/pgzip.c \
    >"$dir/tiny.c"
check 'sizes are not where this test looks for them' \
    [ "$(diff examples/pgzip.c "$dir/tiny.c" | grep -c '^>')" -eq 2 ]
if build "$dir/tiny" cc "$dir/tiny.c"; then
    pgzip=$dir/tiny
    for size in 0 1 10 11 12 21 22 23 5000; do
        made text $size words
        packs text -p 3
    done
    made text 3000 random
    packs text -p 2
    pgzip=$dir/pgzip
else
    fail 'cannot build with tiny blocks'
fi

# ---- headers ----

# header FILE: its first bytes: 10 and the name, or 10.
header() {
    python3 -c 'import sys
head = open(sys.argv[1], "rb").read(1000)
print(head[:10].hex(" "), head[10:].split(b"\0")[0] if head[3] else "")' "$1"
}

# same_header NAME INPUT ARGUMENT...: as gzip's.
same_header() {
    name=$1
    input=$2
    shift 2
    gzip "$@" <"$input" >"$dir/out"
    header "$dir/out" >"$dir/want"
    run 0 "$@" <"$input"
    header "$dir/out" >"$dir/got"
    check "$name: header $(cat "$dir/got") instead of $(cat "$dir/want")" \
        cmp -s "$dir/want" "$dir/got"
}

made 'a name' 1000
touch -d '2001-02-03 04:05:06.789' "$dir/a name"
for level in -1 -6 -9; do
    same_header "level $level" /dev/null -c $level "$dir/a name"
done
same_header 'standard input' "$dir/a name"
same_header 'nothing' /dev/null
touch -d '1960-01-01' "$dir/a name"
run 0 -c "$dir/a name" # gzip warns, and writes 0 as well
check 'a time before 1970' [ "$(header "$dir/out" | cut -c 13-23)" = '00 00 00 00' ]

# ---- standard input and output ----

text=words
cat "$dir/words" | run 0 -
reads gunzip
{ printf one; sleep 0.2; printf two; } >"$dir/pipe" &
printf onetwo >"$dir/text"
text=text
{ printf one; sleep 0.3; printf two; } | { run 0; }
wait
reads gunzip
run 0 -c "$dir/words" - "$dir/random" <"$dir/zeros"
cat "$dir/words" "$dir/zeros" "$dir/random" >"$dir/text"
reads gunzip
check '-c keeps the file' [ -e "$dir/words" ]
cp "$dir/out" "$dir/several.gz"
cp "$dir/out" "$dir/several"
run 0 -dc "$dir/several.gz" "$dir/several" - <"$dir/several"
cat "$dir/text" "$dir/text" "$dir/text" >"$dir/want"
check 'several files to standard output' cmp -s "$dir/want" "$dir/out"
timeout 60 "$pgzip" <"$dir/random" 2>"$dir/err" | head -c 1 >"$dir/out"
quiet
run 1 <&-
says 'pgzip: stdin: Bad file descriptor'
for option in '' -d; do
    run 1 $option <"$dir"
    says 'pgzip: stdin: Is a directory'
    run 1 $option -c /proc/self/mem
    says 'pgzip: /proc/self/mem: Input/output error'
done

# ---- -d: members, padding, garbage, damage, all as gzip ----

# For each file: gzip and pgzip must agree, in exit status and, unless that is 1, in the output.
# What they unpacked before an error must be the beginning of the text, as far as gzip came.
cat >"$dir/agree.py" <<'END'
import gzip, os, random, struct, subprocess, sys, zlib
from concurrent.futures import ThreadPoolExecutor

pgzip, seed, directory = sys.argv[1].split("|"), int(sys.argv[2]), sys.argv[3]
random.seed(seed)
checks = bad = 0


def unpack(command, packed):
    done = subprocess.run(command, input=packed, capture_output=True, timeout=100, check=False)
    return done.returncode, done.stdout, done.stderr.decode()


def agree(case):
    name, packed = case
    want, want_out, want_err = unpack(["gzip", "-dc"], packed)
    got, got_out, got_err = unpack(pgzip + ["-dc", "-p", "2"], packed)
    if want != got:
        return f"{name}: exit status {got}, gzip's {want}: {got_err}"
    if got != 1 and want_out != got_out:
        return f"{name}: another output"
    if (got == 0) != (got_err == "") or (got and not got_err.startswith("pgzip: stdin: ")):
        return f"{name}: exit status {got}, and says: {got_err}"
    return None


def agree_all(cases):
    global checks, bad
    with ThreadPoolExecutor(3) as pool:
        for complaint in pool.map(agree, cases):
            checks += 1
            if complaint:
                bad += 1
                print("FAILED:", complaint)


def member(text, extra=None, name=None, comment=None, crc=False, method=8, more=0):
    flags = (4 * (extra is not None) | 8 * (name is not None) | 16 * (comment is not None) | 2 * crc
             | more)
    head = struct.pack("<BBBBIBB", 31, 139, method, flags, 12345, 0, 3)
    if extra is not None:
        head += struct.pack("<H", len(extra)) + extra
    if name is not None:
        head += name + b"\0"
    if comment is not None:
        head += comment + b"\0"
    if crc:
        head += struct.pack("<H", zlib.crc32(head) & 0xFFFF)
    packer = zlib.compressobj(9, wbits=-15)
    return (head + packer.compress(text) + packer.flush() +
            struct.pack("<II", zlib.crc32(text), len(text)))


def flipped(packed, at, bit):
    return packed[:at] + bytes([packed[at] ^ 1 << bit]) + packed[at + 1:]


text = b"".join(random.choices([b"one ", b"two, ", b"three "], k=60))
words = open(f"{directory}/words", "rb").read()
noise = random.randbytes(300000)
whole = member(text, name=b"name")
small = member(b"x")
every = member(text, b"extra" * 50, b"name", b"comment", True)
big = subprocess.run(pgzip + ["-p", "2"], input=words, stdout=subprocess.PIPE, check=True).stdout

cases = [("nothing", b""), ("one byte", b"\x1f"), ("no gzip", b"no gzip at all"),
         ("zeros", bytes(100)), ("magic", b"\x1f\x8b"), ("every field", every),
         ("members", whole + small + every + member(b"") + big + small),
         ("empty members", member(b"") * 500), ("tiny members", small * 500),
         ("empty extra", member(b"x", extra=b"")), ("empty name", member(b"x", name=b"")),
         ("long name", member(b"x", name=b"n" * 300000)), ("stored", gzip.compress(noise, 1)),
         ("zeros between", whole + bytes(1) + small), ("method", member(b"x", method=7)),
         ("encrypted", member(b"x", more=32)), ("reserved", member(b"x", more=64)),
         ("text flag", member(b"x", more=1)), ("second is damaged", whole + whole[:-9]),
         ("second is unknown", whole + member(b"x", method=9))]
for size in (1, 7, 511, 512, 513, 131071, 131072, 131073, 400000):
    cases.append((f"{size} zeros behind", whole + bytes(size)))
    cases.append((f"{size} zeros and an x behind", whole + bytes(size) + b"x"))
    cases.append((f"{size} bytes of garbage", whole + noise[:size]))
cases.append(("a bit of magic behind", whole + b"\x1f"))
cases.append(("magic behind", whole + b"\x1f\x8b"))
for packed, name in ((whole, "whole"), (every, "every field")):
    step = 1 if packed is whole else 7
    cases += [(f"{name}, cut at {n}", packed[:n]) for n in range(0, len(packed), step)]
    cases += [(f"{name}, bit {bit} of {n} flipped", flipped(packed, n, bit))
              for n in range(0, len(packed), step) for bit in random.sample(range(8), 2)]
cases += [(f"header, bit {bit} of {n} flipped", flipped(whole, n, bit))
          for n in range(0, 10) for bit in range(8)]
for n in [random.randrange(len(big)) for _ in range(30)] + list(range(len(big) - 8, len(big))):
    cases.append((f"big, cut at {n}", big[:n]))
    cases.append((f"big, damaged at {n}", flipped(big, n, random.randrange(8))))
    cases.append((f"big, damaged at {n}, and more", flipped(big, n, random.randrange(8)) + whole))
agree_all(cases)

# What comes before the damage is not lost.
got = unpack(pgzip + ["-dc"], big[:len(big) // 2])[1]
checks += 1
if not words.startswith(got) or len(got) < len(words) // 3:
    bad += 1
    print(f"FAILED: of half a file {len(got)} bytes come out")
print(checks - bad, bad)
END
python3 "$dir/agree.py" "$pgzip" "$seed" "$dir" >"$dir/log" 2>"$dir/err"
grep '^FAILED' "$dir/log" | head -n 20
counts=$(tail -n 1 "$dir/log")
case $counts in
[0-9]*' '[0-9]*)
    passed=$((passed + ${counts% *}))
    failed=$((failed + ${counts#* }))
    ;;
*) fail "damaged files" ;;
esac

# damaged NAME WHY: unpacked in its place, it stays, alone; so with a good one before and behind.
damaged() {
    mkdir "$dir/place"
    cp "$dir/out" "$dir/place/bad.gz"
    gzip -c "$dir/words" >"$dir/place/good.gz"
    cp "$dir/place/good.gz" "$dir/place/last.gz"
    run 1 -d "$dir/place/good.gz" "$dir/place/bad.gz" "$dir/place/last.gz"
    says "pgzip: $dir/place/bad.gz: $2"
    check "$1: files" [ "$(ls "$dir/place" | xargs)" = 'bad.gz good last' ]
    check "$1: the bad one has changed" cmp -s "$dir/out" "$dir/place/bad.gz"
    rm -r "$dir/place"
}

echo 'no gzip at all' >"$dir/out"
damaged 'no gzip' 'not in gzip format'
gzip -c "$dir/words" | head -c 300000 >"$dir/out"
damaged 'cut' 'unexpected end of file'
gzip -c "$dir/words" >"$dir/whole.gz"
python3 - "$dir/whole.gz" "$dir" <<'END'
import sys
whole, directory = bytearray(open(sys.argv[1], "rb").read()), sys.argv[2]
for name, at in ("middle", 150000), ("crc", -8), ("length", -4), ("header", 3):
    copy = whole[:]
    copy[at] ^= 0xC0
    if name == "middle":
        copy[at : at + 100] = bytes(100)
    open(f"{directory}/{name}.bad", "wb").write(copy)
END
cp "$dir/crc.bad" "$dir/out"
damaged 'wrong checksum' 'invalid compressed data--crc error'
cp "$dir/length.bad" "$dir/out"
damaged 'wrong length' 'invalid compressed data--length error'
cp "$dir/header.bad" "$dir/out"
damaged 'unknown flags' 'unknown method or flags -- not supported'

# ---- files ----

place=$dir/place
mkdir "$place"

# files NAME...: these there are, and no others.
files() {
    check "there are: $(ls -A "$place" | xargs)" [ "$(ls -A "$place" | xargs)" = "$*" ]
}

# attributes FILE: what has to be kept.
attributes() {
    stat -c '%a %u %g %x %y' "$1"
}

for mode in 600 644 640 755 400; do
    cp "$dir/words" "$place/words"
    chmod $mode "$place/words"
    [ "$(id -u)" -ne 0 ] || chown 12:34 "$place/words"
    touch -a -d '2010-01-02 03:04:05.123456789' "$place/words"
    touch -m -d '2011-01-02 03:04:05.987654321' "$place/words"
    before=$(attributes "$place/words")
    run 0 "$place/words"
    quiet
    files words.gz
    check 'attributes of the packed file' [ "$(attributes "$place/words.gz")" = "$before" ]
    run 0 -d "$place/words.gz"
    quiet
    files words
    check 'attributes of the unpacked file' [ "$(attributes "$place/words")" = "$before" ]
    check 'packed and unpacked' cmp -s "$dir/words" "$place/words"
    rm "$place/words"
done

cp "$dir/words" "$place/words"
run 0 -k "$place/words"
files words words.gz
run 2 "$place/words" </dev/null
says "pgzip: $place/words.gz: already exists -- not overwritten"
run 2 -d "$place/words.gz" </dev/null
says "pgzip: $place/words: already exists -- not overwritten"
echo other >"$place/words.gz"
run 0 -kf "$place/words"
quiet
check '-f overwrites' gzip -t "$place/words.gz"
echo other >"$place/words"
run 0 -df "$place/words.gz"
files words
check '-d -f overwrites' cmp -s "$dir/words" "$place/words"
mkdir "$place/words.gz"
run 2 "$place/words"
run 1 -f "$place/words"
files words words.gz
rmdir "$place/words.gz"
mkdir "$place/-odd"
cp "$dir/words" "$place/-odd/-1"
(cd "$place/-odd" && "$pgzip" -- -1 && gzip -t ./-1.gz) || fail 'a name with a dash'
rm -r "$place/-odd" "$place/words"

# as_gzip NAME ARGUMENT...: both in a directory of their own that $make fills: exit status and the
# files that are there then are the same. Time stamps differ, so the packed bytes are not compared.
as_gzip() {
    name=$1
    shift
    for program in gzip "$pgzip"; do
        rm -rf "$dir/as"
        mkdir "$dir/as"
        (
            cd "$dir/as" && eval "$make" && timeout 60 "$program" "$@" >/dev/null 2>"$dir/err" </dev/null
            echo "exit status $?"
            find . | sort
        ) >"$dir/as.$(basename "$program")"
    done
    check "$name: $(diff "$dir/as.gzip" "$dir/as.pgzip" | grep '^[<>]' | xargs)" \
        cmp -s "$dir/as.gzip" "$dir/as.pgzip"
    rm -rf "$dir/as"
}

make='echo a >a; ln -s a link; ln -s none dangling; mkdir sub; mkfifo fifo; echo b >b; ln b c
    gzip -c a >p.gz; cp p.gz q.tgz; cp p.gz r; cp p.gz .gz; ln -s p.gz l.gz; echo s >s; chmod 4755 s
    cp p.gz sub/.gz; cp p.gz both.gz; echo d >both'
for options in '' -k -c -f '-c -k'; do
    for file in a link dangling sub fifo b c p.gz q.tgz r s none .gz sub/.gz none.gz; do
        [ "$file $options" != 'fifo -c' ] && [ "$file $options" != 'fifo -c -k' ] || continue
        as_gzip "$options $file" $options $file
        as_gzip "-d $options $file" -d $options $file
    done
    for file in l.gz both both.gz p l; do
        [ "$file $options" = 'both.gz -f' ] || as_gzip "-d $options $file" -d $options $file
    done
done
as_gzip 'several' a sub none b link r
as_gzip 'several to unpack' -d p.gz sub none q.tgz r
as_gzip 'the same twice' a a
as_gzip 'both ways' -f b
make='mkdir x; echo a >"x/$(printf %0250d 0)"'
as_gzip 'a long name' "x/$(printf %0250d 0)"
run 1 "$(printf %05000d 0)"

make='echo a >a; gzip -kc a >b.gz; touch locked; mkdir closed; echo c >closed/c; chmod 500 closed'
if [ "$(id -u)" -eq 0 ]; then
    user='setpriv --reuid=65534 --regid=65534 --clear-groups'
else
    user=
fi
if $user true 2>/dev/null; then
    chmod 777 "$place"
    cp "$dir/words" "$place/secret"
    chmod 000 "$place/secret"
    mkdir "$place/closed"
    cp "$dir/words" "$place/closed/words"
    chmod 555 "$place/closed"
    for file in secret closed/words; do
        $user "$pgzip" "$place/$file" 2>"$dir/err"
        check "exit status for $file" [ $? -eq 1 ]
        case $file in
        secret) says "pgzip: $place/secret: Permission denied" ;;
        *) says "pgzip: $place/closed/words.gz: Permission denied" ;;
        esac
    done
    files closed secret
    cp "$dir/words" "$place/foreign" # its owner cannot be kept; the group neither, nor its rights
    chmod 664 "$place/foreign"
    $user "$pgzip" "$place/foreign" 2>"$dir/err"
    check 'owner that cannot be kept' [ "$(stat -c %a "$place/foreign.gz")" = 604 ] ||
        [ "$(id -u)" -ne 0 ]
    chmod 755 "$place/closed"
    rm -rf "${place:?}"/*
else
    echo 'skipped: the other user (no setpriv)'
fi

# ---- full disks ----

cp "$dir/random" "$place/random"
(ulimit -f 200 && "$pgzip" "$place/random" 2>"$dir/err")
check 'exit status where files may not grow' [ $? -eq 1 ]
says "pgzip: $place/random.gz: File too large"
files random
run 0 "$place/random"
(ulimit -f 200 && "$pgzip" -d "$place/random.gz" 2>"$dir/err")
check 'exit status where files may not grow: -d' [ $? -eq 1 ]
says "pgzip: $place/random: File too large"
files random.gz
for option in '' -d; do
    timeout 60 "$pgzip" $option -c "$place/random.gz" 2>"$dir/err" >/dev/full
    check 'exit status for a full device' [ $? -eq 1 ]
    says 'pgzip: stdout: No space left on device'
done
yes | timeout 60 "$pgzip" 2>"$dir/err" >/dev/full
check 'endless input, full device' [ $? -eq 1 ]
cat >"$dir/small_disk" <<'END'
mount -t tmpfs -o size=400k tmpfs "$1" && cp "$2" "$1/text" 2>/dev/null
truncate -s 300k "$1/text"
"$3" "$1/text" 2>"$4"
echo "exit status $?, $(ls -A "$1" | xargs)"
umount "$1"
END
if unshare -m true 2>/dev/null; then
    rm -f "$place/random.gz"
    unshare -m sh "$dir/small_disk" "$place" "$dir/random" "$pgzip" "$dir/err" >"$dir/out"
    check "a small disk: $(cat "$dir/out")" [ "$(cat "$dir/out")" = 'exit status 1, text' ]
    says "pgzip: $place/text.gz: No space left on device"
else
    echo 'skipped: a small disk (no unshare)'
fi
rm -f "$place"/*

# ---- signals ----

# kill_it SIGNAL STATUS ARGUMENT...: a signal while it writes $place/$growing: that goes, what was
# there stays.
kill_it() {
    signal=$1
    wanted=$2
    shift 2
    before=$(ls -A "$place" | xargs)
    env --default-signal "$pgzip" "$@" >/dev/null 2>"$dir/err" &
    tries=0
    while [ ! -s "$place/$growing" ] && [ $tries -lt 300 ]; do
        sleep 0.02
        tries=$((tries + 1))
    done
    check "$growing does not grow" [ -s "$place/$growing" ]
    kill -s "$signal" $!
    wait $!
    got=$?
    check "exit status $got, not $wanted, after $signal" [ $got -eq "$wanted" ]
    check "after $signal there are: $(ls -A "$place" | xargs)" \
        [ "$(ls -A "$place" | xargs)" = "$before" ]
}

truncate -s 100G "$place/huge"
growing=huge.gz
kill_it TERM 143 "$place/huge"
kill_it INT 130 -k "$place/huge"
kill_it HUP 129 -1 -p 3 "$place/huge"
kill_it PIPE 141 -9 "$place/huge"
rm "$place/huge"
head -c 500000000 /dev/zero | gzip -1 >"$place/huge.gz"
i=0
while [ $i -lt 100 ]; do
    cat "$place/huge.gz"
    i=$((i + 1))
done >"$place/many.gz"
rm "$place/huge.gz"
growing=many
kill_it TERM 143 -d "$place/many.gz"
kill_it INT 130 -d "$place/many.gz"
rm "$place/many.gz"

# Signals that are ignored stay so, as for nohup.
made text 20000000 random
cp "$dir/text" "$place/text"
(
    trap '' INT HUP
    exec "$pgzip" -9 "$place/text"
) 2>"$dir/err" &
sleep 0.1
kill -s INT $! 2>/dev/null
kill -s HUP $! 2>/dev/null
wait $!
check 'ignored signals' [ $? -eq 0 ]
files text.gz
rm -f "$place"/*

# ---- memory ----

# However long the input: the reader waits for the writer, and that for the pipe.
if [ -d /proc/self ]; then
    truncate -s 1T "$dir/endless"
    "$pgzip" -p 4 -1 <"$dir/endless" >"$dir/gate" 2>"$dir/err" &
    exec 3<"$dir/gate"
    sleep 1
    head -c 100000 <&3 >/dev/null
    sleep 0.5
    memory=$(sed -n 's/^VmHWM:[^0-9]*\([0-9]*\) kB/\1/p' /proc/$!/status)
    check "memory: ${memory:-?} KiB" [ "${memory:-999999}" -lt 50000 ]
    at=$(sed -n 's/^pos:[^0-9]*//p' /proc/$!/fdinfo/0)
    kill $!
    exec 3<&-
    wait $!
    check "it has read $at bytes" [ "$at" -gt 0 ]
fi

# ---- arguments ----

for arguments in '-p 0' '-p x' '-p -1' '-p 1025' '-p' '-z' '-0' '-p 1x'; do
    run 1 $arguments </dev/null
    check "arguments '$arguments'" grep -q 'usage: pgzip' "$dir/err"
done

# ---- terminal ----

# terminal COMMAND: runs it in a pseudo terminal, whose output goes to $dir/terminal.
terminal() {
    rm -f "$dir/terminal"
    script -qefc "$1" "$dir/terminal" >/dev/null 2>&1 </dev/null
    got=$?
    grep -av '^Script' "$dir/terminal" | tr -d '\r' >"$dir/err"
}

if script -qefc true "$dir/terminal" >/dev/null 2>&1 </dev/null; then
    for arguments in "-c '$dir/words'" "<'$dir/words'" "-d"; do
        terminal "'$pgzip' $arguments"
        check "exit status $got on a terminal: $arguments" [ $got -eq 1 ]
        check "packed data and a terminal: $arguments" grep -aq \
            'packed data and terminals do not go together; -f forces it$' "$dir/err"
    done
    gzip -c "$dir/words" >"$dir/words.gz"
    terminal "'$pgzip' -dc '$dir/words.gz'"
    check 'text on a terminal' [ $got -eq 0 ]
    check 'nothing but the text on a terminal' [ "$(wc -c <"$dir/err")" -le 1500010 ]
    terminal "'$pgzip' -fc '$dir/random'"
    check '-f on a terminal' [ $got -eq 0 ]
    i=0
    while [ $i -lt 8 ]; do
        cat "$dir/text"
        i=$((i + 1))
    done >"$dir/long"
    mv "$dir/long" "$place/text"
    terminal "'$pgzip' -9 -p 1 '$place/text'"
    check 'progress while it packs' grep -aq 'place/text: [0-9]* %, [0-9]* MB/s' "$dir/err"
    printf '\033[K' >"$dir/want"
    tail -c 4 "$dir/err" | tr -d '\n' >"$dir/got"
    check 'the progress is erased' cmp -s "$dir/want" "$dir/got"
    { gzip -1 -c "$place/text.gz"; sleep 0.4; gzip -1 -c "$dir/random"; } >"$dir/gate" &
    terminal "'$pgzip' -d <'$dir/gate' >'$dir/out'"
    wait $!
    check 'progress without a known size' grep -aq 'stdin: [0-9]* MB, [0-9]* MB/s' "$dir/err"
else
    echo 'skipped: terminal (no script)'
fi

# ---- other builds ----

warnings='-Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wundef -Werror'
asan='-O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all'
for cc in gcc clang; do
    for options in '' -DMTASK_FORCE_POSIX "$asan" '-O1 -g -fsanitize=thread -Wno-error'; do
        pgzip=$dir/built
        echo "build: $cc $options"
        if build "$pgzip" "$cc -std=c11" examples/pgzip.c $warnings $options; then
            pass
            find_runner "$pgzip"
            essentials
        else
            fail "cannot build: $cc $options"
        fi
    done
done

echo "pgzip: $passed passed, $failed failed"
[ "$failed" -eq 0 ]
