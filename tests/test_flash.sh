#!/bin/sh
# Tests examples/flash.c: on its simulated device, and on one written in Python, which knows the
# protocol by itself. usage: tests/test_flash.sh [compiler flags]; with flags only that one build.
# MTASK_TEST_SEED chooses the images and the noise. Needs zlib, python3; util-linux for the terminal
# and the other user.
# shellcheck disable=SC2086 # $hasty and the like are lists of words
set -u
if [ -z "${FLASH_TIMEOUT-}" ]; then # what hangs has failed
    FLASH_TIMEOUT=600 exec timeout 600 "$0" "$@"
fi
export LC_ALL=C
cd "$(dirname "$0")/.." || exit 1
. tests/program.sh

# build PROGRAM COMPILER SOURCE FLAG...: by the source's own first line.
build() {
    program=$1
    compiler=$2
    source=$3
    shift 3
    command=$(sed -n '1s,^// ,,p' examples/flash.c |
        sed "s|&& cc |\&\& $compiler $* |;s|-o build/flash examples/flash.c|-o '$program' '$source'|")
    case $command in
    *"$compiler $* "*"-o '$program' '$source'"*)
        sh -c "$command" >"$dir/err" 2>&1 && [ -x "$program" ] && return
        ;;
    esac
    echo "command: $command" >>"$dir/err"
    return 1
}

# run WANTED ARGUMENT...: runs flash, for a minute at most; its exit status must be WANTED.
run() {
    wanted=$1
    shift
    timeout 60 $runner "$flash" "$@" >"$dir/out" 2>"$dir/err" </dev/null
    got=$?
    check "exit status $got, not $wanted: flash $*" [ "$got" -eq "$wanted" ]
}

# says TEXT: the last run printed that to standard error (a basic regular expression).
says() {
    check "it does not say '$1'" grep -q -- "$1" "$dir/err"
}

# sends IMAGE OPTION...: it arrives at the simulated device.
sends() {
    image=$1
    shift
    rm -f "$dir/copy"
    run 0 --simulate "$dir/copy" "$@" "$image"
    check "another image arrived: flash $* $image" cmp -s "$image" "$dir/copy"
}

# fails WANTED TEXT OPTION...: on the simulated device it ends with that status and message.
fails() {
    status=$1
    text=$2
    shift 2
    run "$status" --simulate "$dir/copy" "$@" "$dir/image"
    says "$text"
    says 'the device has no whole image now: flash it again'
}

# noise NAME BYTES: a file of so many random bytes.
noise() {
    seed=$((seed + 1))
    python3 -c 'import random, sys
random.seed(int(sys.argv[1]))
sys.stdout.buffer.write(random.randbytes(int(sys.argv[2])))' "$seed" "$2" >"$dir/$1"
}

# A device of its own on a pseudo terminal: device.py MODE COPY; it prints the name of the line.
cat >"$dir/device.py" <<'EOF'
import os, random, select, struct, sys, tty, zlib

END, ESC = b"\xc0", b"\xdb"
mode, copy = sys.argv[1:3]
random.seed(int(sys.argv[3]))
master, slave = os.openpty()
tty.setraw(slave)
print(os.ttyname(slave), flush=True)
image, expected, seen, buffer = b"", 0, 0, b""


def frame(kind, seq, data=b"", wrong=0):
    body = struct.pack("<IHc", seq, len(data), kind) + data
    body = struct.pack("<I", zlib.crc32(body) ^ wrong) + body
    return END + body.replace(ESC, ESC + b"\xdd").replace(END, ESC + b"\xdc") + END


def answer(kind, seq, data=b""):
    if mode == "garbage":  # none of it may be taken for an answer
        os.write(master, frame(b"A", seq, wrong=1) + frame(b"R", seq + 999, b"no") +
                 frame(b"?", seq) + random.randbytes(50) + ESC + END + END +
                 frame(kind, seq, b"x" * 1025) + frame(kind, seq)[:-4])
    if mode == "slow":  # byte by byte
        for byte in frame(kind, seq, data):
            os.write(master, bytes([byte]))
    else:
        os.write(master, frame(kind, seq, data))


def obey(packet):
    global image, expected
    crc, seq, size, kind = struct.unpack("<IIHc", packet[:11])
    data = packet[11:]
    assert zlib.crc32(packet[4:]) == crc and len(data) == size, "bad packet"
    if kind == b"S":
        image, expected = b"", 0
    if mode == "restart" and seen == 5:
        expected = 0
    if mode == "babble":  # until the host is gone
        noise = random.randbytes(4096)
        while True:
            os.write(master, noise)
    if mode == "deaf":  # answers what it has not read
        os.write(master, b"".join(frame(b"A", seq) for seq in range(250)))
        waiting = select.poll()
        waiting.register(master, 0)
        waiting.poll()
        sys.exit(0)
    if mode == "refuse" and seen == 5:
        return answer(b"R", seq, b"worn \x1b[31mout\n")
    if mode == "nak" or mode == "naks" and seen % 2 == 1:
        return answer(b"N", seq)
    if seq > expected:
        return answer(b"R", seq, b"I was reset")
    if seq == expected:
        expected += 1
        if kind == b"D":
            image += data
        if kind == b"E":
            assert data == struct.pack("<II", len(image), zlib.crc32(image)), "bad sums"
            with open(copy, "wb") as file:
                file.write(image)
    if mode == "twice":  # each packet has to come twice
        seq -= 1 if seen % 2 == 1 else 0
        seq &= 0xFFFFFFFF
    answer(b"A", seq)


def take(got):
    global buffer, seen
    if mode == "silent":
        return
    if mode == "echo":
        os.write(master, got)
    buffer += got
    while END in buffer:
        packet, buffer = buffer.split(END, 1)
        if packet:
            seen += 1
            if mode == "leaves" and seen == 5:
                sys.exit(0)
            obey(packet.replace(ESC + b"\xdc", END).replace(ESC + b"\xdd", ESC))


try:
    first = os.read(master, 4096)
    os.close(slave)  # the host has opened the line: from now on its leaving is noticed
    take(first)
    while True:
        take(os.read(master, 4096))
except OSError:
    pass  # the host has left
EOF

# device WANTED MODE OPTION...: sends the image to such a device.
device() {
    wanted=$1
    mode=$2
    shift 2
    rm -f "$dir/copy" "$dir/line"
    mkfifo "$dir/line"
    timeout 60 python3 "$dir/device.py" "$mode" "$dir/copy" "$seed" >"$dir/line" 2>"$dir/trouble" &
    read -r line <"$dir/line"
    run "$wanted" "$@" "$dir/image" "$line"
    wait $!
    check "the device in mode $mode: $(cat "$dir/trouble")" [ ! -s "$dir/trouble" ]
    [ "$wanted" -ne 0 ] || check "mode $mode: another image" cmp -s "$dir/image" "$dir/copy"
}

# find_runner PROGRAM: TSan needs setarch -R on some kernels.
find_runner() {
    runner=
    "$1" >"$dir/out" 2>"$dir/err"
    [ $? -eq 2 ] || runner='setarch -R'
}

# What every build must do.
essentials() {
    sends "$dir/image"
    sends "$dir/image" --loss 10 --corrupt 10 --seed "$seed" $hasty
    fails 3 'no answer to packet [0-9]*, 3 tries' --mute 5 $hasty --tries 3
    fails 3 'the line was cut at packet 4' --cut 5
    rm -f "$dir/copy"
    run 4 --simulate /dev/full "$dir/image"
    device 0 garbage $hasty
}

echo "seed: $seed"
hasty='--baud 4000000 --timeout 5 --tries 100'
patient='--baud 4000000 --timeout 500'
flash=$dir/flash
noise image 40000
if ! build "$flash" "${CC:-cc}" examples/flash.c "$flags"; then
    cat "$dir/err"
    exit 1
fi
find_runner "$flash"
if ! python3 -c 'import os; os.openpty()' 2>"$dir/err"; then
    echo 'skipped: all runs (no pseudo terminals)'
    echo "flash: $passed passed, $failed failed"
    exit 0
fi

# ---- images ----

for size in 1 1023 1024 1025 17408 300001; do
    noise sized $size
    sends "$dir/sized" --timeout 10000
    says "flash: 100 % of $(((size + 1023) / 1024)) KiB, .* 0 packets sent again"
done
check 'nothing on standard output' [ ! -s "$dir/out" ]
head -c 5000 /dev/zero | tr '\0' '\300' >"$dir/escapes" # what is to be escaped on the line
sends "$dir/escapes"
head -c 5000 /dev/zero | tr '\0' '\333' >"$dir/escapes"
sends "$dir/escapes" --corrupt 20 $hasty --seed "$seed"

run 1 --simulate "$dir/copy" "$dir/none"
says "^flash: $dir/none: No such file or directory"
: >"$dir/empty"
run 1 --simulate "$dir/copy" "$dir/empty"
says "$dir/empty: an image must be a regular file of 1 byte"
for strange in "$dir" /dev/zero; do
    run 1 --simulate "$dir/copy" "$strange"
    says "$strange: an image must be a regular file"
done
truncate -s 4294967296 "$dir/huge"
run 1 --simulate "$dir/copy" "$dir/huge"
rm "$dir/huge"
run 1 --simulate "$dir/none/copy" "$dir/image"
says "$dir/none/copy: No such file"
run 4 --simulate /dev/full "$dir/image"
says 'the device refuses packet 1: it cannot be written'

# ---- arguments and lines ----

for arguments in '' image 'image line 3' '--simulate copy' '--simulate copy image line' \
    '--baud x image line' '--baud 0 image line' '--tries 0 image line' '--tries 101 image line' \
    '--timeout 1x image line' '--timeout 99999999999999999999 image line' '--nonsense image line' \
    '--loss -1 --simulate copy image' '--loss 101 --simulate copy image' '--seed'; do
    run 2 $arguments
    says '^usage: flash '
done
run 2 --simulate copy --loss 101 image
says "^flash: '101': a number from 0 to 100 is wanted$"
run 1 "$dir/image" "$dir/none"
says "$dir/none: No such file or directory: is the device plugged in?"
run 1 "$dir/image" /dev/null
says '/dev/null: .*: name a serial line'
run 1 --baud 12345 --simulate "$dir/copy" "$dir/image"
says 'try another --baud'

# ---- lines with noise, devices that fail ----

for i in 1 2 3; do
    sends "$dir/image" --loss 20 $hasty --seed $((seed + i))
    says ' [1-9][0-9]* packets sent again' # of 80 packets and answers 20 % are lost
    sends "$dir/image" --corrupt 20 $hasty --seed $((seed + i))
    says ' [1-9][0-9]* packets sent again'
    sends "$dir/image" --loss 20 --corrupt 20 --delay 15 $hasty --seed $((seed + i))
done
sends "$dir/image" --delay 30 $hasty --timeout 1 # answers come late, and twice
says ' [1-9][0-9]* packets sent again'
fails 3 'no answer to packet 0, 4 tries: check cable' --loss 100 $hasty --tries 4
fails 3 'no answer to packet 0' --corrupt 100 --timeout 1 --baud 4000000 --tries 4
for at in 1 20 42; do # START, some DATA, END
    fails 3 "no answer to packet $((at - 1)), 2 tries" --mute $at $patient --tries 2
    fails 3 "the line was cut at packet $((at - 1)): plug" --cut $at
done

# ---- a device that somebody else wrote ----

device 0 plain --timeout 10000
says ' 0 packets sent again'
device 0 slow
device 0 garbage $hasty
device 0 echo
device 3 babble $hasty --tries 2
says 'no answer to packet 0, 2 tries'
noise image 300001
device 3 deaf $patient --tries 2 # until nothing more fits into the line
says 'no answer to packet [1-9][0-9]*, 2 tries'
noise image 40000
device 0 twice $hasty
says ' [1-9][0-9]* packets sent again'
device 0 naks --timeout 10000 # which is not waited for
says ' 42 packets sent again'
device 4 refuse
says "flash: /dev/.*: the device refuses packet 4: worn ?\\[31mout?$"
device 4 restart
says 'refuses packet 4: I was reset'
device 3 leaves
says 'the line was cut at packet 4'
device 3 silent $hasty --tries 3
says 'no answer to packet 0, 3 tries'
device 3 nak $hasty --tries 3
says 'no answer to packet 0, 3 tries'

# ---- the line in use, the image of others ----

user=
if [ "$(id -u)" -eq 0 ]; then
    user='setpriv --reuid=65534 --regid=65534 --clear-groups'
fi
cp "$dir/image" "$dir/secret"
chmod 000 "$dir/secret"
if $user test -r "$dir/image" && ! $user test -r "$dir/secret"; then
    runner="$user $runner"
    run 1 "$dir/secret" /dev/null
    says "$dir/secret: Permission denied"
    runner=${runner#"$user "}
else
    echo 'skipped: unreadable image (no setpriv)'
fi

# ---- progress on a terminal ----

if script -qefc true "$dir/terminal" >"$dir/out" 2>"$dir/err" </dev/null; then
    script -qefc "'$flash' --simulate '$dir/copy' --delay 40 '$dir/image'" "$dir/terminal" \
        >"$dir/out" 2>"$dir/err" </dev/null
    check 'exit status on a terminal' [ $? -eq 0 ]
    tr '\r' '\n' <"$dir/terminal" >"$dir/err"
    says '^flash: [1-9][0-9]* % of 40 KiB, [0-9]* KiB/s, 0 packets sent again'
    check 'progress more than once' [ "$(grep -c '^flash: .* %' "$dir/err")" -gt 2 ]
else
    echo 'skipped: terminal (no script)'
fi

if [ -n "$flags" ]; then
    echo "flash: $passed passed, $failed failed"
    [ "$failed" -eq 0 ]
    exit
fi

# ---- no malloc ----

# Notes each allocation, and for whom it is; makes the fifth read of the image fail or end.
cat >"$dir/spy.c" <<'EOF'
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t);
void *__libc_memalign(size_t, size_t);

static void note(const char *what, void *caller) {
    char line[300];
    Dl_info info = {0};
    int file = open(getenv("SPY_LOG"), O_WRONLY | O_APPEND | O_CREAT, 0666);
    dladdr(caller, &info);
    strcpy(line, what);
    strncat(line, info.dli_fname != NULL ? info.dli_fname : "unknown", 200);
    strcat(line, "\n");
    if (write(file, line, strlen(line)) < 0)
        _exit(99);
    close(file);
}

#define NOTE(name) note(name " by ", __builtin_return_address(0))
void *malloc(size_t size) { NOTE("malloc"); return __libc_malloc(size); }
void *calloc(size_t n, size_t size) { NOTE("calloc"); return __libc_calloc(n, size); }
void *realloc(void *p, size_t size) { NOTE("realloc"); return __libc_realloc(p, size); }
void *memalign(size_t a, size_t size) { NOTE("memalign"); return __libc_memalign(a, size); }
void *aligned_alloc(size_t a, size_t size) { NOTE("memalign"); return __libc_memalign(a, size); }
int posix_memalign(void **p, size_t a, size_t size) {
    NOTE("memalign");
    return (*p = __libc_memalign(a, size)) != NULL ? 0 : ENOMEM;
}

ssize_t read(int file, void *to, size_t size) {
    static int count;
    const char *fault = getenv("SPY_READ");
    if (fault == NULL || size != 1024 || ++count != 5)
        return syscall(SYS_read, file, to, size);
    errno = EIO;
    return strcmp(fault, "end") == 0 ? 0 : -1;
}
EOF

# spied WANTED FAULT ARGUMENT...: runs flash with the spy; $dir/log tells who allocated what.
spied() {
    wanted=$1
    fault=$2
    shift 2
    : >"$dir/log"
    timeout 60 env "SPY_LOG=$dir/log" $fault "LD_PRELOAD=$dir/spy.so" "$flash" "$@" >"$dir/out" \
        2>"$dir/err" </dev/null
    got=$?
    check "spied: exit status $got, not $wanted: flash $*" [ "$got" -eq "$wanted" ]
}

# The C library's loader makes a table for each new thread; nothing else may allocate: not flash,
# not mtask in it, nor the C library for them.
unallocated() {
    grep -v '^calloc by .*/ld[^/]*$' "$dir/log" >"$dir/err"
    check "allocations: $*" [ ! -s "$dir/err" ]
    check "more than a table for each thread: $*" [ "$(wc -l <"$dir/log")" -le 2 ]
}

if cc -O2 -shared -fPIC -o "$dir/spy.so" "$dir/spy.c" 2>"$dir/err"; then
    spied 0 '' --simulate "$dir/copy" "$dir/image"
    unallocated 'clean'
    spied 0 '' --simulate "$dir/copy" --loss 5 --corrupt 5 $hasty "$dir/image"
    unallocated 'with noise'
    spied 3 '' --simulate "$dir/copy" --cut 10 "$dir/image"
    unallocated 'a line that is cut'
    spied 3 '' --simulate "$dir/copy" --mute 10 $hasty --tries 2 "$dir/image"
    unallocated 'a silent device'
    spied 4 '' --simulate /dev/full "$dir/image"
    unallocated 'refused'
    spied 1 '' "$dir/image" "$dir/none"
    unallocated 'no line'
    spied 2 '' --nonsense --loss x --seed
    unallocated 'wrong arguments'
    spied 1 SPY_READ=end --simulate "$dir/copy" "$dir/image"
    says "flash: $dir/image: it changed while it was read"
    spied 1 SPY_READ=fail --simulate "$dir/copy" "$dir/image"
    says "flash: $dir/image: Input/output error"
    says 'the device has no whole image now'
    unallocated 'an image that cannot be read'
    # And the spy sees what is there: the same program with mtask's own malloc.
    sed '/^#define MTASK_\(MALLOC\|REALLOC\|FREE\)/d' examples/flash.c >"$dir/heap.c"
    if build "$dir/heap" "${CC:-cc}" "$dir/heap.c" -Iexamples; then
        flash=$dir/heap
        spied 0 '' --simulate "$dir/copy" "$dir/image"
        check 'the spy sees mallocs' [ "$(grep -c 'alloc by .*/heap$' "$dir/log")" -ge 2 ]
    else
        fail 'cannot build with malloc'
    fi
else
    fail 'cannot build the spy'
fi

# ---- other builds ----

warnings='-Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wundef -Werror'
asan='-O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all'
for cc in gcc clang; do
    for options in '' -DMTASK_NO_STB_DS -DMTASK_FORCE_POSIX "$asan" '-O1 -g -fsanitize=thread -Wno-error'; do
        flash=$dir/built
        echo "build: $cc $options"
        if build "$flash" "$cc -std=c11" examples/flash.c $warnings $options; then
            pass
            find_runner "$flash"
            essentials
        else
            fail "cannot build: $cc $options"
        fi
    done
done

echo "flash: $passed passed, $failed failed"
[ "$failed" -eq 0 ]
