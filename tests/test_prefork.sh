#!/bin/sh
# Tests examples/prefork.c with curl, wrk and raw connections: workers die and are replaced, and the
# server is restarted under load without losing a request. usage: tests/test_prefork.sh [compiler
# flags]; otherwise it is built with AddressSanitizer. Needs libhttp-parser-dev, curl, python3; wrk if
# it is there.
set -u
if [ -z "${PREFORK_TIMEOUT-}" ]; then # what hangs has failed
    PREFORK_TIMEOUT=200 exec timeout 200 "$0" "$@"
fi
export LC_ALL=C
cd "$(dirname "$0")/.." || exit 1
. tests/program.sh
pid=
trap '[ -z "$pid" ] || kill -KILL $pid; rm -rf "$dir"' EXIT

# build COMPILER FLAG...: by the source's own first line.
build() {
    compiler=$1
    shift
    command=$(sed -n '1s,^// ,,p' examples/prefork.c |
        sed "s|&& cc -O2 |\&\& $compiler -O2 $* |;s|-o build/prefork|-o '$dir/prefork'|")
    sh -c "$command" >"$dir/err" 2>&1 && [ -x "$dir/prefork" ]
}

# ---- the server ----

scale=1 # of its own seconds, which are for the last request, and between a death and the next start

# start ARGUMENT...: starts it on a free port, and waits until it listens; $pid, $url.
start() {
    : >"$dir/ready"
    MTASK_EXAMPLE_SCALE=$scale "$dir/prefork" -p 0 "$@" >"$dir/ready" 2>"$dir/err" &
    pid=$!
    tries=0
    while ! grep -q '/$' "$dir/ready" && kill -0 $pid 2>/dev/null && [ $tries -lt 500 ]; do
        sleep 0.02
        tries=$((tries + 1))
    done
    url=$(sed -n 's,^prefork: \(http://127\.0\.0\.1:[0-9]*\)/$,\1,p' "$dir/ready")
    check "it does not start: $*" [ -n "$url" ]
}

# told COUNT PATTERN: waits until it has said that so often, at least.
told() {
    tries=0
    while [ "$(grep -c "^prefork: $2" "$dir/err")" -lt "$1" ] && [ $tries -lt 1000 ]; do
        sleep 0.02
        tries=$((tries + 1))
    done
    check "it has not said $1 times: $2" [ $tries -lt 1000 ]
}

# workers: their numbers, as the system knows them, in a line.
workers() {
    cat /proc/[0-9]*/stat 2>/dev/null | awk -v parent="$pid" '$4 == parent { printf "%d ", $1 }'
}

# so_many COUNT: it has so many workers again.
so_many() {
    tries=0
    while [ "$(workers | wc -w)" -ne "$1" ] && [ $tries -lt 1000 ]; do
        sleep 0.02
        tries=$((tries + 1))
    done
    check "workers: $(workers), not $1" [ "$(workers | wc -w)" -eq "$1" ]
}

# descriptors: how many the parent has open.
descriptors() {
    set -- /proc/$pid/fd/*
    echo $#
}

# ended: it ends well, and all its workers are gone.
ended() {
    left=$(workers)
    wait $pid
    code=$?
    pid=
    check "exit status $code" [ $code -eq 0 ]
    for worker in $left; do
        check "worker $worker is still there" gone "$worker"
    done
}

# alive PID: whether that process runs: it is there, and no zombie (of a parent that was killed).
alive() {
    [ "$(sed 's/.*) \(.\).*/\1/' "/proc/$1/stat" 2>/dev/null || echo Z)" != Z ]
}

# gone PID: that process ends, soon.
gone() {
    tries=0
    while alive "$1" && [ $tries -lt 500 ]; do
        sleep 0.02
        tries=$((tries + 1))
    done
    [ $tries -lt 500 ]
}

# ---- clients ----

# get ARGUMENT...: curl; $status, $by: who has served it.
get() {
    status=$(curl -sS --max-time 30 -o "$dir/body" -D "$dir/head" -w '%{http_code}' "$@" \
        2>"$dir/curl")
    by=$(sed -n 's/^Served-By: \([0-9]*\).$/\1/p' "$dir/head")
}

# answers STATUS BODY ARGUMENT...: what curl is answered, and that a worker did it.
answers() {
    wanted=$1
    printf '%s' "$2" >"$dir/want"
    shift 2
    get "$@"
    check "$status, not $wanted: curl $* $(cat "$dir/curl")" [ "$status" = "$wanted" ]
    check "another body: curl $*" cmp -s "$dir/want" "$dir/body"
    check "$by is no worker of: $(workers)" [ -n "$by" ]
    case " $(workers)" in *" $by "*) pass ;; *) fail "$by is no worker of: $(workers)" ;; esac
}

# raw NAME ARGUMENT...: a check of checks.py.
raw() {
    check "checks.py $*" timeout 60 python3 "$dir/checks.py" "${url##*:}" "$pid" "$@"
}

cat >"$dir/checks.py" <<'END'
import os, re, signal, socket, sys, time

PORT, PARENT, NAME = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
GET = b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n"


class Client:
    def __init__(self):
        self.socket = socket.create_connection(("127.0.0.1", PORT), timeout=30)
        self.buffer = b""

    def send(self, path):
        self.socket.sendall(GET % path)
        return self

    def answer(self):
        """The next one: (pid, whether the connection goes on, body); None: it was closed."""
        while b"\r\n\r\n" not in self.buffer:
            data = self.socket.recv(65536)
            if not data:
                assert not self.buffer, self.buffer
                return None
            self.buffer += data
        head, self.buffer = self.buffer.split(b"\r\n\r\n", 1)
        assert head.startswith(b"HTTP/1.1 200 OK\r\n"), head
        size = int(re.search(rb"Content-Length: (\d+)", head).group(1))
        while len(self.buffer) < size:
            self.buffer += self.socket.recv(65536)
        body, self.buffer = self.buffer[:size], self.buffer[size:]
        pid = int(re.search(rb"Served-By: (\d+)", head).group(1))
        return pid, b"Connection: close" not in head, body


def get(path=b"/"):
    return Client().send(path).answer()


def until_closed(client, pid, path=b"/"):
    """Asks and asks; all is answered by the same process, up to the answer that is the last one."""
    while client.send(path).answer()[:2] == (pid, True):
        pass
    assert client.answer() is None


def restart():
    """SIGHUP with connections in each state: what was asked, or is asked now, is answered."""
    idle, last, slow, many = (Client() for _ in range(4))
    owners = [client.send(b"/").answer()[0] for client in (idle, last, slow, many)]
    slow.send(b"/slow")
    time.sleep(0.1)
    os.kill(PARENT, signal.SIGHUP)
    until_closed(last, owners[1])
    keep = True
    while keep:  # what follows an answer that is the last one is not answered, but makes no reset
        many.socket.sendall(GET % b"/" * 2000)
        for _ in range(2000):
            if keep:
                pid, keep, _ = many.answer()
                assert pid == owners[3]
    assert many.answer() is None
    pid, keep, _ = slow.answer()  # was at work
    assert pid == owners[2]
    if keep:  # it was faster than the signal
        until_closed(slow, pid, b"/slow")
    assert idle.answer() is None, "it asks nothing, and is closed"
    assert get()[0] not in owners


def stop():
    """SIGTERM: what was asked is answered, others are refused."""
    slow, idle = Client(), Client()
    slow.send(b"/slow")
    time.sleep(0.1)
    os.kill(PARENT, signal.SIGTERM)
    assert slow.answer()[1] is False and slow.answer() is None
    assert idle.answer() is None


def no_time():
    """SIGTERM, and no time is left: who waits is told."""
    client = Client().send(b"/slow")
    time.sleep(0.1)
    os.kill(PARENT, signal.SIGTERM)
    head = client.socket.recv(65536)
    assert head.startswith(b"HTTP/1.1 503 ") and b"Connection: close" in head, head


def cut_off():
    """The same while the process does nothing but compute: it is killed."""
    client = Client().send(b"/primes/1000000000000")
    time.sleep(0.1)
    os.kill(PARENT, signal.SIGTERM)
    try:
        assert client.answer() is None, "it was answered"
    except ConnectionResetError:
        pass


def odd():
    """What is no request, or comes in pieces, or is ended early."""
    client = Client()
    for byte in GET % b"/":
        client.socket.sendall(bytes([byte]))
    pid, keep, _ = client.answer()
    assert keep
    client.socket.sendall(GET % b"/" * 100)
    assert all(client.answer()[:2] == (pid, True) for _ in range(100))
    client.socket.sendall(b"nonsense\r\n\r\n")
    head = client.socket.recv(65536)
    assert head.startswith(b"HTTP/1.1 400 ") and b"Connection: close" in head, head
    for part in b"", b"GET", GET[:-2] % b"/":
        client = Client()
        client.socket.sendall(part)
        client.socket.shutdown(socket.SHUT_WR)
        assert client.answer() is None
    client = Client()
    client.socket.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n" + b"x" * 100000)
    assert client.socket.recv(65536).startswith(b"HTTP/1.1 405 ")


globals()[NAME]()
END

# ---- what it does ----

requests() {
    start -n 3
    told 3 'worker [0-9]* started'
    so_many 3
    answers 200 'Hello, World!
' "$url/"
    answers 200 '168
' "$url/primes/1000"
    answers 404 'There is no such page.
' "$url/none"
    answers 405 'GET, please.
' -d x "$url/"
    get -I "$url/"
    check "$status to HEAD" [ "$status" = 200 ]
    check 'a body to HEAD' cmp -s "$dir/head" "$dir/body" # curl -I writes the head there, too
    answers 200 'Hello, World!
' -0 "$url/"
    raw odd
    # who computes does not keep others from being served
    for i in 1 2 3 4 5 6; do
        curl -sS --max-time 30 -o "$dir/body$i" -D - "$url/primes/200000" 2>"$dir/curl$i" |
            sed -n 's/^Served-By: \([0-9]*\).$/\1/p' >"$dir/by$i" &
        eval "client$i=\$!"
    done
    for i in 1 2 3 4 5 6; do
        eval "wait \$client$i"
        check "primes: $(cat "$dir/body$i" "$dir/curl$i")" [ "$(cat "$dir/body$i")" = 17984 ]
    done
    check "all were served by $(cat "$dir/by1")" [ "$(cat "$dir"/by? | sort -u | wc -l)" -gt 1 ]
}

deaths() {
    for victim in $(workers); do
        kill -KILL "$victim"
        told 1 "worker $victim failed: .*9"
        so_many 3
        answers 200 'Hello, World!
' "$url/"
    done
    get "$url/crash"
    check "$status to /crash" [ "$status" = 000 ]
    told 4 'worker [0-9]* failed'
    told 7 'worker [0-9]* started'
    so_many 3
    victim=$(workers | cut -d ' ' -f 1)
    kill -TERM "$victim" # by hand, but gracefully
    told 1 "worker $victim ended"
    told 8 'worker [0-9]* started'
    kill -TERM $pid
    ended
    check 'it does not say why it ended' grep -q '^prefork: SIGTERM: stop$' "$dir/err"
}

# under_load: restarts while wrk counts what goes wrong.
under_load() {
    timeout 60 wrk -t1 -c40 -d2s "$url/" >"$dir/wrk" 2>&1 &
    load=$!
    for i in 1 2 3 4 5 6; do
        sleep 0.3
        kill -HUP $pid
        told 2 "worker [0-9]* started, generation $((restarts + i))"
    done
    restarts=$((restarts + 6))
    wait $load
    check 'wrk' [ $? -eq 0 ]
    check "wrk: $(cat "$dir/wrk")" grep -q 'requests in' "$dir/wrk"
    check "wrk: $(grep -E 'Socket|Non' "$dir/wrk")" [ "$(grep -cE 'Socket|Non-2xx' "$dir/wrk")" = 0 ]
}

restart() {
    echo 'first' >"$dir/text"
    start -n 2 -f "$dir/text"
    answers 200 'first
' "$url/"
    before=$(descriptors)
    first=$(workers)
    restarts=1
    echo 'second' >"$dir/text"
    raw restart
    told 2 'worker [0-9]* started, generation 1'
    told 2 'worker [0-9]* ended'
    for worker in $first; do
        check "worker $worker is still there" gone "$worker"
    done
    answers 200 'second
' "$url/"
    if command -v wrk >/dev/null; then
        under_load
    else
        echo 'skipped: wrk'
    fi
    rm "$dir/text"
    kill -HUP $pid
    told 1 "$dir/text: "
    so_many 2
    answers 200 'second
' "$url/"
    so_many 2
    check "descriptors: $(descriptors), not $before" [ "$(descriptors)" -eq "$before" ]
    raw stop
    ended
    check "workers failed" [ "$(grep -c failed "$dir/err")" = 0 ]
}

ends() {
    start -n 1 -g 0
    raw no_time
    ended
    start -n 1 -g 0
    raw cut_off
    told 1 'worker [0-9]* failed: .*9' # the one that computed
    ended
    start -n 2
    told 2 'worker [0-9]* started'
    kill -INT $pid
    ended
    start -n 2 # and the system ends the workers of one that is killed
    told 2 'worker [0-9]* started'
    so_many 2
    left=$(workers)
    kill -KILL $pid
    wait $pid 2>"$dir/curl"
    pid=
    for worker in $left; do
        check "worker $worker is still there" gone "$worker"
    done
    curl -sS --max-time 5 "$url/" >"$dir/body" 2>"$dir/curl"
    check 'somebody still listens' [ $? -eq 7 ]
}

# arguments: what it says to people.
arguments() {
    "$dir/prefork" -h >"$dir/body" 2>"$dir/err"
    check '-h' [ $? -eq 0 ]
    check 'usage' grep -q '^usage: prefork' "$dir/body"
    for argument in -x '-n 0' '-n x' '-g -1' -f word; do
        # shellcheck disable=SC2086 # two words
        timeout 20 "$dir/prefork" -p 0 $argument >"$dir/body" 2>"$dir/err"
        check "exit status for $argument" [ $? -eq 2 ]
        check "usage for $argument" grep -q '^usage: prefork' "$dir/err"
    done
    for argument in '-p none-of-this' '-f /none' '-p 256.256.256.256:80'; do
        # shellcheck disable=SC2086
        timeout 20 "$dir/prefork" $argument >"$dir/body" 2>"$dir/err"
        check "exit status for $argument" [ $? -eq 1 ]
        check "message for $argument" grep -q '^prefork: [^ ]*: .' "$dir/err"
    done
}

if [ -n "$flags" ]; then
    check 'cannot build it' build "${CC:-cc}" "$flags"
else
    warnings='-Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wundef -Werror'
    check 'cannot build it' build 'clang -std=c11' \
        "$warnings -O0 -g -fsanitize=address,undefined -fno-sanitize-recover=all"
fi
if [ -x "$dir/prefork" ]; then
    scale=0.1
    requests
    deaths
    scale=1
    restart
    scale=0.3
    ends
    arguments
fi

echo "prefork: $passed passed, $failed failed"
[ "$failed" -eq 0 ]
