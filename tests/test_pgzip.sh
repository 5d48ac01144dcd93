#!/bin/sh
# Tests examples/pgzip.c: what it packs is read back by gzip, pigz and Python; what it unpacks,
# replaces, refuses and says of damaged files is compared with gzip.
# usage: tests/test_pgzip.sh [compiler flags]; with flags only that one build.
# MTASK_TEST_SEED chooses the random bytes. Needs gzip, python3, zlib; pigz if it is there;
# util-linux for the terminal, the other user and the full disk.
# shellcheck disable=SC2086,SC2011 # $runner and the like are lists of words; our names are plain
set -u
if [ -z "${PGZIP_TIMEOUT-}" ]; then # what hangs has failed
    PGZIP_TIMEOUT=600 exec timeout 600 "$0" "$@"
fi
export LC_ALL=C
cd "$(dirname "$0")/.." || exit 1
. tests/program.sh
runner=

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

# What needs many runs: checks.py PGZIP SEED DIRECTORY KIND; its words are separated by "|".
cat >"$dir/checks.py" <<'END'
import gzip, os, random, shutil, stat, struct, subprocess, sys, tempfile, zlib
from concurrent.futures import ThreadPoolExecutor

PGZIP, SEED, DIRECTORY, KIND = sys.argv[1].split("|"), int(sys.argv[2]), sys.argv[3], sys.argv[4]
BLOCK, WINDOW = 262144, 32768
random.seed(SEED)
READERS = [["gunzip"], ["zcat"], PGZIP + ["-d", "-p", "2"]]
READERS += [["pigz", "-d"]] if shutil.which("pigz") else []


def run(command, data=b"", cwd=None):
    done = subprocess.run(command, input=data, capture_output=True, timeout=100, check=False,
                          cwd=cwd)
    return done.returncode, done.stdout, done.stderr.decode(errors="replace")


def check_all(check, cases):
    """Runs check(*case), which returns what is wrong, for all cases."""
    with ThreadPoolExecutor(3) as pool:
        found = [text for text in pool.map(lambda case: check(*case), cases) if text]
    for text in found[:20]:
        print("FAILED:", text)
    print(len(cases) - len(found), len(found))


# ---- packing ----


def words(size):
    some = [random.randbytes(random.randint(1, 9)).hex().encode() for _ in range(500)]
    return b" ".join(random.choices(some, k=size // 3 + 1))[:size]


def not_one_member(packed, text, level):
    """It is one member, and not much longer than in one block."""
    unpacker = zlib.decompressobj(wbits=31)
    if unpacker.decompress(packed) + unpacker.flush() != text:
        return "another text"
    if not unpacker.eof or unpacker.unused_data:
        return "not one member"
    packer = zlib.compressobj(level, wbits=31)
    best = len(packer.compress(text) + packer.flush())
    if BLOCK > WINDOW and len(packed) > best * 1.01 + 400 * (len(text) // BLOCK + 1):
        return f"{len(packed)} bytes, {best} in one block"
    return None


def pack(name, text, level, threads):
    name = f"{name}, {len(text)} bytes, level {level}, {threads} threads"
    status, packed, err = run(PGZIP + [f"-{level}", "-p", str(threads)], text)
    if status != 0 or err:
        return f"{name}: exit status {status}, {err}"
    wrong = not_one_member(packed, text, level)
    if wrong:
        return f"{name}: {wrong}"
    for reader in READERS:
        if run(reader, packed) != (0, text, ""):
            return f"{name}: {reader[0]} unpacks something else"
    return None


def packing():
    at = [0, 1, 2, 3, 100, WINDOW - 1, WINDOW, WINDOW + 1, 5 * BLOCK]
    at += [base + n for base in (BLOCK, BLOCK + WINDOW, 2 * BLOCK) for n in (-1, 0, 1)]
    kinds = {"words": words, "random": random.randbytes, "zeros": bytes}
    cases = [(kind, make(size), 6, 2) for size in at for kind, make in kinds.items()]
    mixed = random.randbytes(300000) + words(900000) + bytes(500000)
    mixed += b"".join(open(f"{DIRECTORY}/{name}", "rb").read() for name in ("distance", "random"))
    cases += [("mixed", mixed, level, threads) for level in range(1, 10) for threads in range(1, 5)]
    cases += [("mixed", mixed, 6, 100), ("empty", b"", 9, 100)]
    check_all(pack, cases)


def tiny():
    """A build with blocks of 11 bytes, and windows of 5: their ends are everywhere."""
    global BLOCK, WINDOW
    BLOCK, WINDOW = 11, 5
    check_all(pack, [(name, make(size), level, 3) for size in (0, 1, 10, 11, 12, 21, 22, 23, 3000)
                     for name, make in (("words", words), ("random", random.randbytes))
                     for level in (1, 6, 9)])


# ---- members, padding, garbage, damage: gzip and pgzip agree ----


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


def agree(name, packed):
    """The exit status is gzip's; unless it is 1, so is the output."""
    want, want_out, _ = run(["gzip", "-dc"], packed)
    got, got_out, err = run(PGZIP + ["-dc", "-p", "2"], packed)
    if want != got:
        return f"{name}: exit status {got}, gzip's {want}: {err}"
    if got != 1 and want_out != got_out:
        return f"{name}: another output"
    if (got == 0) != (err == "") or (got and not err.startswith("pgzip: stdin: ")):
        return f"{name}: exit status {got}, and says: {err}"
    return None


def lossless(name, packed, text):
    """What comes before the damage is not lost; no less comes out than of gzip."""
    got, least = run(PGZIP + ["-dc"], packed)[1], len(run(["gzip", "-dc"], packed)[1])
    if not text.startswith(got) or len(got) < least:
        return f"{name}: {len(got)} bytes come out, {least} of gzip"
    return None


def damaged():
    text = b"".join(random.choices([b"one ", b"two, ", b"three "], k=60))
    long, noise = words(1500000), random.randbytes(300000)
    whole = member(text, name=b"name")
    small = member(b"x")
    every = member(text, b"extra" * 50, b"name", b"comment", True)
    big = run(PGZIP + ["-p", "2"], long)[1]
    cases = [("nothing", b""), ("one byte", b"\x1f"), ("no gzip", b"no gzip at all"),
             ("zeros", bytes(100)), ("magic", b"\x1f\x8b"), ("every field", every),
             ("members", whole + small + every + member(b"") + big + small),
             ("empty members", member(b"") * 500), ("tiny members", small * 500),
             ("empty extra", member(b"x", extra=b"")), ("empty name", member(b"x", name=b"")),
             ("long name", member(b"x", name=b"n" * 300000)), ("stored", gzip.compress(noise, 1)),
             ("zero between", whole + bytes(1) + small), ("method", member(b"x", method=7)),
             ("encrypted", member(b"x", more=32)), ("reserved", member(b"x", more=64)),
             ("text flag", member(b"x", more=1)), ("second is damaged", whole + whole[:-9]),
             ("second is unknown", whole + member(b"x", method=9)),
             ("a bit of magic behind", whole + b"\x1f"), ("magic behind", whole + b"\x1f\x8b")]
    for size in (1, 2, 511, 512, 513, 131072, 262143, 262144, 262145, 600000):
        cases += [(f"{size} zeros behind", whole + bytes(size)),
                  (f"{size} zeros and an x behind", whole + bytes(size) + b"x"),
                  (f"{size} bytes of garbage", whole + b"\x77" * size)]
    for packed, name, step in (whole, "whole", 1), (every, "every field", 7):
        cases += [(f"{name}, cut at {n}", packed[:n]) for n in range(0, len(packed), step)]
        cases += [(f"{name}, bit {bit} of {n} flipped", flipped(packed, n, bit))
                  for n in range(0, len(packed), step) for bit in random.sample(range(8), 2)]
    cases += [(f"header, bit {bit} of {n} flipped", flipped(whole, n, bit))
              for n in range(10) for bit in range(8)]
    ends = range(len(big) - 8, len(big))
    for n in [random.randrange(len(big)) for _ in range(20)] + list(ends):
        cases += [(f"big, cut at {n}", big[:n]),
                  (f"big, damaged at {n}", flipped(big, n, random.randrange(8))),
                  (f"big, damaged at {n}, and more", flipped(big, n, random.randrange(8)) + whole)]
    check_all(agree, cases)
    check_all(lossless, [("half", big[:len(big) // 2], long),
                         ("wrong checksum", flipped(big, len(big) - 8, 0), long)])


# ---- files: gzip and pgzip leave the same ones, with the same exit status ----


def fill(directory):
    os.mkdir(f"{directory}/sub")
    packed = gzip.compress(b"a text\n", mtime=1)
    files = {"a": b"a\n", "b": b"b\n", "s": b"s\n", "p.gz": packed, "q.tgz": packed, "r": packed,
             ".gz": packed, "sub/.gz": packed, "both": b"d\n", "both.gz": packed, "way": b"w\n",
             "n" * 250: b"n\n"}
    for name, content in files.items():
        with open(f"{directory}/{name}", "wb") as file:
            file.write(content)
    os.chmod(f"{directory}/s", 0o4755)
    os.mkfifo(f"{directory}/fifo")
    os.mkdir(f"{directory}/way.gz")
    os.symlink("a", f"{directory}/link")
    os.symlink("p.gz", f"{directory}/l.gz")
    os.symlink("none", f"{directory}/dangling")
    os.link(f"{directory}/b", f"{directory}/c")


def state(directory):
    """All files: names, types, modes and, of those that are not packed, their contents."""
    found = {}
    for root, _, names in os.walk(directory):
        for name in names:
            path = os.path.join(root, name)
            mode = os.lstat(path).st_mode
            content = None
            if stat.S_ISREG(mode):
                with open(path, "rb") as file:
                    content = file.read()
                if content[:2] == b"\x1f\x8b":
                    content = gzip.decompress(content)
            found[os.path.relpath(path, directory)] = (oct(mode), content)
    return found


def same_files(*arguments):
    results = []
    for program in ["gzip"], PGZIP:
        with tempfile.TemporaryDirectory(dir=DIRECTORY) as directory:
            fill(directory)
            status, out, err = run(program + list(arguments), cwd=directory)
            out = gzip.decompress(out) if out[:2] == b"\x1f\x8b" else out
            results.append((status, state(directory), out, err))
    (want, want_files, want_out, _), (got, got_files, got_out, err) = results
    name = " ".join(arguments)
    if got != want:
        return f"{name}: exit status {got}, gzip's {want}: {err}"
    if got_files != want_files:
        changed = {k for k in {**want_files, **got_files} if want_files.get(k) != got_files.get(k)}
        return f"{name}: not as gzip leaves them: {changed}"
    return f"{name}: another output" if got_out != want_out else None


def files():
    names = ["a", "link", "dangling", "sub", "fifo", "b", "c", "p.gz", "q.tgz", "r", "s", "none",
             ".gz", "sub/.gz", "none.gz", "l.gz", "both", "both.gz", "p", "l", "way", "n" * 250]
    cases = [options + [name] for options in ([], ["-k"], ["-c"], ["-f"], ["-ck"], ["-d"], ["-dk"],
                                              ["-dc"], ["-df"], ["-dkf"]) for name in names]
    # gzip -dcf copies what is not packed; a FIFO would wait.
    cases = [case for case in cases if not (case[-1] == "fifo" and "c" in case[0])]
    cases += [["a", "sub", "none", "b", "link", "r"], ["-d", "p.gz", "sub", "none", "q.tgz", "r"],
              ["a", "a"], ["-kf", "a", "a"], ["-9", "--", "a"], ["a", "-k"]]
    check_all(same_files, cases)


{"packing": packing, "tiny": tiny, "damaged": damaged, "files": files}[KIND]()
END

# checks KIND: runs those.
checks() {
    python3 "$dir/checks.py" "$(echo "$runner $pgzip" | xargs | tr ' ' '|')" "$seed" "$dir" "$1" \
        >"$dir/log" 2>"$dir/err"
    check "checks.py $1" [ $? -eq 0 ]
    grep '^FAILED' "$dir/log"
    # shellcheck disable=SC2046 # two numbers
    set -- $(awk '/^[0-9]/ { good += $1; bad += $2 } END { print good + 0, bad + 0 }' "$dir/log")
    passed=$((passed + $1))
    failed=$((failed + $2))
}

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
    # a write error while a worker waits for input
    gzip -c "$dir/random" | head -c 650000 >"$dir/damaged"
    timeout 60 $runner "$pgzip" -d <"$dir/gate" >/dev/full 2>"$dir/err" &
    exec 3>"$dir/gate"
    cat "$dir/damaged" >&3
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

checks packing

sed -e 's/BLOCK = 256 << 10/BLOCK = 11/' -e 's/WINDOW = 32 << 10/WINDOW = 5/' examples/pgzip.c \
    >"$dir/tiny.c"
check 'sizes are not where this test looks for them' \
    [ "$(diff examples/pgzip.c "$dir/tiny.c" | grep -c '^>')" -eq 2 ]
if build "$dir/tiny" cc "$dir/tiny.c"; then
    pgzip=$dir/tiny
    checks tiny
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
cat "$dir/words" >"$dir/gate" &
run 0 - <"$dir/gate"
reads gunzip
text=text
printf onetwo >"$dir/text"
{ printf one; sleep 0.3; printf two; } >"$dir/gate" &
run 0 <"$dir/gate"
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

# ---- members and damage ----

checks damaged

# damaged NAME WHY: unpacked in its place, it stays, alone; so with a good one before and behind.
damaged() {
    mkdir "$dir/place"
    cp "$dir/bad" "$dir/place/bad.gz"
    gzip -c "$dir/words" >"$dir/place/good.gz"
    cp "$dir/place/good.gz" "$dir/place/last.gz"
    run 1 -d "$dir/place/good.gz" "$dir/place/bad.gz" "$dir/place/last.gz"
    says "pgzip: $dir/place/bad.gz: $2"
    check "$1: files" [ "$(ls "$dir/place" | xargs)" = 'bad.gz good last' ]
    check "$1: the bad one has changed" cmp -s "$dir/bad" "$dir/place/bad.gz"
    rm -r "$dir/place"
}

echo 'no gzip at all' >"$dir/bad"
damaged 'no gzip' 'not in gzip format'
gzip -c "$dir/words" | head -c 300000 >"$dir/bad"
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
cp "$dir/crc.bad" "$dir/bad"
damaged 'wrong checksum' 'invalid compressed data--crc error'
cp "$dir/length.bad" "$dir/bad"
damaged 'wrong length' 'invalid compressed data--length error'
cp "$dir/header.bad" "$dir/bad"
damaged 'unknown flags' 'unknown method or flags -- not supported'

# ---- files ----

checks files

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
mkdir "$place/-odd"
cp "$dir/words" "$place/-odd/-1"
(cd "$place/-odd" && "$pgzip" -- -1 && gzip -t ./-1.gz) || fail 'a name with a dash'
rm -r "$place/-odd" "$place/words"

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
    if [ -n "$user" ]; then # the owner cannot be kept; neither can the group, nor what it may do
        cp "$dir/words" "$place/foreign"
        chmod 664 "$place/foreign"
        $user "$pgzip" "$place/foreign" 2>"$dir/err"
        check 'a foreign file' [ "$(stat -c %a "$place/foreign.gz")" = 604 ]
    fi
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
    wait $! 2>/dev/null # it says so when a signal ends a job
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
    wait $! 2>/dev/null
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
    cp "$dir/text" "$place/text"
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
tsan='-O1 -g -fsanitize=thread'
for build in gcc clang 'gcc -DMTASK_FORCE_POSIX' "clang $asan" "gcc $tsan -Wno-tsan" \
    "clang $tsan -DMTASK_FORCE_POSIX"; do
    pgzip=$dir/built
    echo "build: $build"
    if build "$pgzip" "$build -std=c11" examples/pgzip.c $warnings; then
        pass
        find_runner "$pgzip"
        essentials
    else
        fail "cannot build: $build"
    fi
done

echo "pgzip: $passed passed, $failed failed"
[ "$failed" -eq 0 ]
