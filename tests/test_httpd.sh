#!/bin/sh
# Tests examples/httpd.c with curl and wrk, with raw bytes of all kinds, and against nginx, which is
# asked the same odd requests. usage: tests/test_httpd.sh [compiler flags]; with flags only that one
# build. MTASK_TEST_SEED chooses the random bytes. Needs libhttp-parser-dev, curl, python3,
# util-linux; wrk and nginx if they are there.
# shellcheck disable=SC2086 # $runner and the like are lists of words
set -u
if [ -z "${HTTPD_TIMEOUT-}" ]; then # what hangs has failed
    HTTPD_TIMEOUT=300 exec timeout 300 "$0" "$@"
fi
export LC_ALL=C
cd "$(dirname "$0")/.." || exit 1
. tests/program.sh
example=httpd
pid=
nginx_pid=
trap 'kill $pid $nginx_pid 2>/dev/null; rm -rf "$dir"' EXIT
runner=

# ---- the server ----

# start ARGUMENT...: starts $httpd on a free port, and waits until it listens; $pid, $port.
start() {
    : >"$dir/ready"
    $runner "$httpd" -p 0 "$@" >"$dir/ready" 2>"$dir/err" &
    pid=$!
    tries=0
    while ! grep -q '/$' "$dir/ready" && kill -0 $pid 2>/dev/null && [ $tries -lt 1000 ]; do
        sleep 0.02
        tries=$((tries + 1))
    done
    port=$(sed -n 's,^httpd: http://127\.0\.0\.1:\([0-9]*\)/$,\1,p' "$dir/ready")
    check "it does not start: $*" [ -n "$port" ]
    url=http://127.0.0.1:$port
}

# stop: ends it as one should; it must end well, and say nothing (of leaks, say).
stop() {
    kill -TERM $pid
    wait $pid
    ended=$?
    pid=
    check "exit status $ended" [ $ended -eq 0 ]
    check 'it says something' [ ! -s "$dir/err" ]
}

# descriptors: how many it has open.
descriptors() {
    set -- /proc/$pid/fd/*
    echo $#
}

# settles COUNT: it has so many again, once it has noticed that its clients have gone.
settles() {
    tries=0
    while [ "$(descriptors)" -ne "$1" ] && [ $tries -lt 500 ]; do
        sleep 0.02
        tries=$((tries + 1))
    done
    check "$(descriptors) descriptors are open, not $1" [ "$(descriptors)" -eq "$1" ]
}

# ---- clients ----

# get ARGUMENT...: curl; the body goes to $dir/body, the head to $dir/head, $status.
get() {
    status=$(curl -sS --max-time 30 -o "$dir/body" -D "$dir/head" -w '%{http_code}' "$@" \
        2>"$dir/curl")
}

# answers STATUS ARGUMENT...: what curl is answered.
answers() {
    wanted=$1
    shift
    get "$@"
    check "$status, not $wanted: curl $* $(cat "$dir/curl")" [ "$status" = "$wanted" ]
}

# has FIELD: the last answer had such a line in its head (a basic regular expression).
has() {
    check "no '$1' in the answer" grep -qi "^$1.\$" "$dir/head"
}

# lacks FIELD
lacks() {
    check "'$1' in the answer" [ "$(grep -ci "^$1" "$dir/head")" = 0 ]
}

# body FILE: the last answer's.
body() {
    check "another body than $1" cmp -s "$1" "$dir/body"
}

# says TEXT: the last answer's body.
says() {
    printf '%s' "$1" >"$dir/want"
    body "$dir/want"
}

# raw KIND ARGUMENT...: checks.py; its last line has the numbers of checks that passed and failed.
raw() {
    python3 "$dir/checks.py" "$@" >"$dir/out" 2>&1
    counts=$(sed -n '$s/^\([0-9]* [0-9]*\)$/\1/p' "$dir/out")
    sed '/^[0-9]* [0-9]*$/d' "$dir/out"
    [ -n "$counts" ] || fail "checks.py $*"
    passed=$((passed + ${counts%% *})) failed=$((failed + ${counts##* }))
}

# ---- bytes that no client sends ----

cat >"$dir/checks.py" <<'END'
import os, random, re, resource, signal, socket, struct, sys, threading, time, zlib
from concurrent.futures import ThreadPoolExecutor
from email.utils import parsedate_to_datetime

KIND, PORT, ARGUMENTS = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
PATIENCE = 60  # seconds until a server that does not answer has failed
HOST = b"Host: x\r\n"
PLAIN = b"GET /plain HTTP/1.1\r\n" + HOST + b"\r\n"
BODY = b"Hello, World!"


class Wrong(Exception):
    pass


def must(condition, text):
    if not condition:
        raise Wrong(text)


class Client:
    """A connection; it reads answers one by one."""

    def __init__(self, port=PORT, patience=PATIENCE):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=patience)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, data):
        self.socket.sendall(data)
        return self

    def half_close(self):
        self.socket.shutdown(socket.SHUT_WR)
        return self

    def abort(self):
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def more(self):
        """Reads something; False at the end."""
        try:
            data = self.socket.recv(1 << 18)
        except ConnectionResetError:
            data = b""
        self.buffer += data
        return data != b""

    def answer(self, head_only=False):
        """The next answer: (status, fields, body); None: the connection has ended before it."""
        while b"\r\n\r\n" not in self.buffer:
            if not self.more():
                must(self.buffer == b"", f"half an answer: {self.buffer[:200]}")
                return None
        head, self.buffer = self.buffer.split(b"\r\n\r\n", 1)
        lines = head.decode("latin-1").split("\r\n")
        match = re.fullmatch(r"HTTP/1\.1 (\d\d\d) ([ -~]+)", lines[0])
        must(match, f"not a status line: {lines[0]}")
        fields = {}
        for line in lines[1:]:
            name, colon, value = line.partition(": ")
            must(colon and name.lower() not in fields, f"not a field, or twice: {line}")
            fields[name.lower()] = value
        status = int(match.group(1))
        bare = head_only or status in (100, 204, 304)
        size = 0 if bare else int(fields["content-length"])
        while len(self.buffer) < size:
            must(self.more(), f"half a body: {len(self.buffer)} of {size} bytes")
        body, self.buffer = self.buffer[:size], self.buffer[size:]
        return status, fields, body

    def rest(self):
        """All that comes until the end."""
        while self.more():
            pass
        return self.buffer

    def ended(self):
        must(self.rest() == b"", f"not the end: {self.buffer[:200]}")


def run(checks):
    """Runs functions that raise Wrong, several at once, and prints what is wrong."""
    def one(check):
        try:
            check()
        except (Wrong, OSError, LookupError, TypeError, ValueError) as error:
            return f"{check.__name__}: {type(error).__name__} {error}"
        return None

    with ThreadPoolExecutor(8) as pool:
        found = [text for text in pool.map(one, checks) if text]
    for text in found[:40]:
        print("FAILED:", text)
    print(len(checks) - len(found), len(found))


def says(data, status, closes=None, body=None):
    """What is sent is answered so, and the connection then closed or not."""
    with Client() as client:
        client.send(data)
        answer = client.answer()
        must(answer is not None, f"no answer to {data[:80]}")
        must(answer[0] == status, f"{answer[0]}, not {status}, to {data[:80]}")
        must(body is None or answer[2] == body, f"another body to {data[:80]}: {answer[2][:80]}")
        closed = answer[1].get("connection") == "close"
        must(closes in (None, closed), f"{answer[1]} to {data[:80]}")
        if closed:
            client.half_close().ended()
        else:
            answer = client.send(PLAIN).answer()
            must(answer and answer[0] == 200, f"{answer} behind {data[:80]}")
        return answer


def post(text, more=b""):
    return b"POST /echo HTTP/1.1\r\n" + HOST + more + b"Content-Length: %d\r\n\r\n" % len(text) + text


def chunked(*pieces, end=b"\r\n", extension=b""):
    return (b"POST /echo HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n" +
            b"".join(b"%x%s\r\n%s\r\n" % (len(piece), extension, piece) for piece in pieces) +
            b"0\r\n" + end)


def memory(pid):
    """The most that it has ever used, in KiB."""
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        return int(re.search(r"VmHWM:\s*(\d+)", file.read()).group(1))


# ---- one server, many clients ----


def in_order():
    """A client that pipelines 10,000 requests is answered 10,000 times, in order."""
    count = 10000
    with Client() as client:
        data = b"".join(post(b"%d" % i) if i % 3 else PLAIN for i in range(count))
        sender = threading.Thread(target=client.send, args=[data])
        sender.start()
        for i in range(count):
            answer = client.answer()
            must(answer and answer[0] == 200, f"{answer} to request {i}")
            must(answer[2] == (b"%d" % i if i % 3 else BODY), f"{answer[2]} to request {i}")
        sender.join()
        client.half_close().ended()


def not_read():
    """One that does not read its answers is not read any more."""
    before = memory(ARGUMENTS[0])
    with Client() as client:
        client.socket.setblocking(False)
        sent, waits, request = 0, 0, post(b"x" * 4000)
        data = request * 64
        while waits < 10 and sent < 100 << 20:
            try:
                sent += client.socket.send(data[sent % len(request):])
                waits = 0
            except BlockingIOError:
                waits += 1
                time.sleep(0.02)
        must(sent < 100 << 20, "it reads on and on")
        used = memory(ARGUMENTS[0]) - before
        must(ARGUMENTS[1] != "exact" or used < 8192, f"{used} KiB more memory")
        client.socket.settimeout(PATIENCE)
        client.half_close()
        for i in range(sent // len(request)):
            must(client.answer()[2] == b"x" * 4000, f"answer {i}")


def half_close():
    with Client() as client:
        client.send(PLAIN * 3).half_close()
        for _ in range(3):
            must(client.answer()[2] == BODY, "no answer")
        client.ended()
    for part in b"", b"\r\n", b"GET", PLAIN[:-2], post(b"12345")[:-1], chunked(b"12345")[:-2]:
        with Client() as client:
            client.send(part).half_close().ended()


def reset():
    """Clients that go in the middle of an answer, or of a request, harm nobody."""
    for i in range(30):
        client = Client().send(b"GET /big HTTP/1.1\r\n" + HOST + b"\r\n")
        client.socket.recv(1000 * i + 1)
        client.abort()
        Client().send(post(b"x" * 1000)[:-1 - i]).abort()
        Client().send(PLAIN * 1000).abort()
    says(PLAIN, 200)


def every_split():
    """However a request comes in pieces."""
    request = chunked(b"hello", b"world" * 20, end=b"Trailer: x\r\n\r\n", extension=b";a=b") + PLAIN
    with Client() as client:
        for at in range(1, len(request)):
            client.send(request[:at])
            if at % 4 == 0:
                time.sleep(0.0005)
            client.send(request[at:])
            must(client.answer()[2] == b"hello" + b"world" * 20, f"split at {at}")
            must(client.answer()[2] == BODY, f"split at {at}")
        for byte in request:
            client.send(bytes([byte]))
        must(client.answer()[2] == b"hello" + b"world" * 20, "byte by byte")
        must(client.answer()[2] == BODY, "byte by byte")


def limits():
    line = b"GET /plain HTTP/1.1\r\nHost: x\r\nX: "
    for size in 16384, 16385, 40000, 200000:
        head = line + b"y" * (size - len(line) - 4) + b"\r\n\r\n"
        says(head, 200 if size <= 16384 else 431, size > 16384)
    says(b"GET /plain?" + b"y" * 16000 + b" HTTP/1.1\r\n" + HOST + b"\r\n", 200, False)
    says(b"GET /" + b"y" * 17000, 414, True)
    for count in 63, 64, 500:
        says(PLAIN[:-2] + b"A: b\r\n" * count + b"\r\n", 200 if count < 64 else 431, count >= 64)
    says(b"\r\n" * 5000 + PLAIN, 200, False)
    says(b"\r\n" * 20000, 400, True)
    for size in 0, 1, 16384, 100000, 1048576:
        text = random.randbytes(size)
        says(post(text), 200, False, text)
        says(chunked(*(text[i:i + 70000] for i in range(0, size, 70000))), 200, False, text)
    says(post(b"x" * 1048577), 413, True)
    says(chunked(b"x" * 1048576, b"x"), 413, True)
    says(b"POST /echo HTTP/1.1\r\n" + HOST + b"Content-Length: 1844674407370955160\r\n\r\n", 413, True)
    says(chunked(b"x", extension=b";" + b"e" * 100000), 431, True)


def expect():
    head = b"POST /echo HTTP/1.1\r\n" + HOST + b"Expect: 100-Continue\r\nContent-Length: 5\r\n\r\n"
    with Client() as client:
        must(client.send(head).answer()[0] == 100, "it does not ask for the body")
        must(client.send(b"hello").answer()[2] == b"hello", "another body")
    says(head.replace(b"h: 5", b"h: 9999999"), 413, True)
    says(head.replace(b"HTTP/1.1", b"HTTP/1.0") + b"hello", 200, True, b"hello")


def odd_chunks():
    for request in (chunked(b"hello").replace(b"hello\r\n", b"helloXX"),
                    chunked(b"hello").replace(b"hello\r\n", b"helloX\n"),
                    chunked(b"hello").replace(b"5\r\n", b"5\rX"),
                    chunked(b"hello").replace(b"5\r\n", b"5 \r\n").replace(b"5 ", b"-5"),
                    chunked(b"hello").replace(b"5\r\n", b"0x5\r\n"),
                    chunked(b"hello").replace(b"5\r\n", b"fffffffffffffffff\r\n"),
                    chunked(b"hello").replace(b"5\r\n", b"\r\n"),
                    PLAIN[:-2] + b"\rX", PLAIN[:-2] + b"A:\rX\r\n\r\n",
                    PLAIN[:-2] + b"A: b\rX\r\n\r\n"):
        for pause in 0, 0.05:
            with Client() as client:
                for piece in [request] if not pause else [request[:-9], request[-9:]]:
                    client.send(piece)
                    time.sleep(pause)
                answer = client.half_close().answer()
                must(answer and answer[0] == 400, f"{answer} to {request}")
                client.ended()


def together():
    """1,000 slow requests take no longer than a few of them one after the other."""
    count, each = 1000, float(ARGUMENTS[2])
    start = time.monotonic()
    clients = [Client() for _ in range(count)]
    for i, client in enumerate(clients):
        client.send(b"GET /hello/%d%%20you HTTP/1.1\r\n" % i + HOST + b"\r\n")
    for i, client in enumerate(clients):
        answer = client.answer()
        must(answer[2] == b"hello %d you\n" % i, f"{answer} to {i}")
        client.socket.close()
    took = time.monotonic() - start
    must(took >= each, f"{took} seconds: nobody slept")
    must(took < each * count / 4, f"{took} seconds: not at the same time")


def noise():
    """Random bytes, and requests with random damage: what is answered is an answer."""
    random.seed(int(ARGUMENTS[3]))
    words = [b"GET", b" ", b"/", b"/plain", b"HTTP/1.1", b"HTTP/1.0", b"\r\n", b"\n", b"\r", b":",
             b"Host", b"Content-Length", b"Transfer-Encoding", b"chunked", b"5", b"0", b"\0", b"\xff",
             b"POST", b"/echo", b"%2e", b"..", b"Connection", b"close", b"Expect", b"100-continue"]
    for i in range(300):
        if i % 3 == 0:
            data = random.randbytes(random.randint(1, 3000))
        elif i % 3 == 1:
            data = b"".join(random.choices(words, k=random.randint(1, 60)))
        else:
            data = bytearray(PLAIN + chunked(b"hello") + post(b"hello") + PLAIN)
            for _ in range(random.randint(1, 4)):
                data[random.randrange(len(data))] = random.randrange(256)
        with Client() as client:
            client.send(data).half_close()
            text = client.rest()
            must(text == b"" or text.startswith(b"HTTP/1.1 "), f"{text[:100]} to {data[:100]}")


def outside():
    """No path leads out of the directory, whatever it says."""
    secret = b"secret"
    for path in ("/../secret", "/..%2fsecret", "/%2e%2e/secret", "/.%2e/secret", "/%2e%2e%2fsecret",
                 "/a/../../secret", "/a/%2e%2e/%2E%2E/secret", "/static/../secret",
                 "/static/../../secret", "/static/%2e%2e/secret", "/static//etc/passwd",
                 "//etc/passwd", "/%2fetc/passwd", "/%2Fetc%2Fpasswd", "/link", "/link/", "/out/secret",
                 "/out", "/a/up/secret", "/up/secret", "/fine.txt%00", "/fine.txt%00.html", "/%00",
                 "/..%00/secret", "/..%5csecret", "/..\\secret", "/%c0%ae%c0%ae/secret", "/%", "/%2",
                 "/%zz", "/fine.txt/", "/fine.txt/..", "/fine.txt/../../secret", "/static/..",
                 "/..", "/static", "/fifo", "/" + "a/" * 500 + "../" * 501 + "secret", "/.../secret",
                 "/proc/self/environ", "/" + "x" * 300, "/" + "%61" * 3000, "http://x/../secret",
                 "http://x/%2e%2e/secret"):
        with Client() as client:
            client.send(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            status, _, body = client.answer()
            must(status in (400, 403, 404), f"{status} for {path}")
            must(secret not in body and b"root:" not in body, f"{path} leads out")
    for path in "/fine.txt", "/%66ine.txt", "/a/fine.txt", "/static/a/fine.txt", "/./fine.txt":
        says(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode(), 200, False, b"fine\n")


def fields():
    with Client() as client:
        status, fields, _ = client.send(PLAIN).answer()
        age = time.time() - parsedate_to_datetime(fields["date"]).timestamp()
        must(status == 200 and -2 < age < 60, f"{fields}")
        must(sorted(fields) == ["content-length", "content-type", "date"], f"{fields}")
        status, fields, _ = client.send(b"HEAD /big HTTP/1.1\r\n" + HOST + b"\r\n").answer(True)
        must(status == 200 and fields["content-length"] == ARGUMENTS[4], f"{fields}")
        status, fields, _ = client.send(b"GET /plain HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n").answer()
        must(fields["connection"] == "keep-alive", f"{fields}")
        status, fields, _ = client.send(b"GET /plain HTTP/1.0\r\n\r\n").answer()
        must(fields["connection"] == "close", f"{fields}")
        client.ended()


def many():
    run([in_order, not_read, half_close, reset, every_split, limits, expect, odd_chunks, noise,
         outside, fields])


def overlap():
    run([together])


# ---- servers of their own ----


def slow():
    """-t 0.4 -k 0.4: clients that send too slowly are cut off, and not before."""
    def drip(request, status):
        def check():
            start = time.monotonic()
            with Client() as client:
                try:
                    for byte in request:
                        client.send(bytes([byte]))
                        client.socket.settimeout(0.05)
                        try:
                            if not client.more() or client.buffer:
                                break
                        except TimeoutError:
                            pass
                        client.socket.settimeout(PATIENCE)
                except (BrokenPipeError, ConnectionResetError):
                    pass
                client.socket.settimeout(PATIENCE)
                answer = client.answer()
                took = time.monotonic() - start
                must((answer and answer[0]) == status, f"{answer} to {request[:50]}")
                must(took >= 0.35, f"after {took} seconds")
                must(status is None or answer[1]["connection"] == "close", f"{answer}")
                client.half_close().ended()
        return check

    run([drip(PLAIN[:-2] + b"A: b\r\n" * 1000, 408), drip(b"GET /" + b"x" * 1000, 408),
         drip(post(b"x" * 1000)[:-1], 408), drip(chunked(*[b"x"] * 200), 408),
         drip(b"\r\n" * 500, None), drip(b"", None)])


def greedy():
    """-t 0.4: a client that does not take its answer is cut off."""
    def check():
        with Client() as client:
            client.send(b"GET /big HTTP/1.1\r\n" + HOST + b"\r\n")
            time.sleep(1.5)
            size = len(client.rest())
            must(size < int(ARGUMENTS[0]), f"{size} bytes came")
    run([check])


def exhausted():
    """With 64 descriptors, 200 clients are all served, some of them later."""
    def check():
        clients = [Client().send(PLAIN) for _ in range(200)]
        for i, client in enumerate(clients):
            answer = client.answer()
            must(answer and answer[0] == 200, f"{answer} to client {i}")
            client.socket.close()
        says(b"GET /fine.txt HTTP/1.1\r\n" + HOST + b"\r\n", 200, False, b"fine\n")
    run([check])


def idle():
    """-k 0.4: between two requests it waits so long, and says nothing."""
    def check():
        start = time.monotonic()
        with Client() as client:
            must(client.send(PLAIN).answer()[0] == 200, "no answer")
            client.ended()
        took = time.monotonic() - start
        must(0.35 <= took < 50, f"{took} seconds")  # -t would be 100
    run([check])


def crowded():
    """-c 2: others wait until one goes."""
    def check():
        first, second, third = (Client().send(PLAIN) for _ in range(3))
        must(first.answer()[0] == 200 and second.answer()[0] == 200, "no answer")
        third.socket.settimeout(0.2)
        try:
            must(False, f"the third is answered: {third.answer()}")
        except TimeoutError:
            pass
        third.socket.settimeout(PATIENCE)
        first.socket.close()
        must(third.answer()[0] == 200, "the third is not answered")
        second.socket.close()
        third.socket.close()
    run([check])


def graceful():
    """SIGTERM: what runs is answered, what is idle is closed, nobody else comes in."""
    def check():
        idle = Client().send(PLAIN)
        must(idle.answer()[0] == 200, "no answer")
        running = Client().send(b"GET /hello/you HTTP/1.1\r\n" + HOST + b"\r\n")
        must(idle.send(PLAIN).answer()[0] == 200, "no answer")
        os.kill(int(ARGUMENTS[0]), signal.SIGTERM)
        must(idle.answer() is None, "an idle connection is answered")
        status, fields, body = running.answer()
        must(status == 200 and body == b"hello you\n", f"{status} {body}")
        must(fields.get("connection") == "close", f"{fields}")
        running.ended()
        try:
            must(False, f"it still listens: {Client().send(PLAIN).answer()}")
        except ConnectionRefusedError:
            pass
    run([check])


# ---- nginx ----

GET = b"GET /fine.txt HTTP/1.1\r\n"
X = b"Host: x\r\n"
ODD = {
    "as usual": GET + X + b"\r\n",
    "HEAD": b"HEAD" + GET[3:] + X + b"\r\n",
    "no Host": GET + b"\r\n",
    "two Hosts": GET + X + X + b"\r\n",
    "empty Host": GET + b"Host:\r\n\r\n",
    "HTTP/1.0": b"GET /fine.txt HTTP/1.0\r\n\r\n",
    "HTTP/1.0, keep-alive": b"GET /fine.txt HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    "close": GET + X + b"Connection: close\r\n\r\n",
    "Close, and others": GET + X + b"Connection: a, Close\r\n\r\n",
    "HTTP/2.0": b"GET /fine.txt HTTP/2.0\r\n" + X + b"\r\n",
    "HTTP/1.9": b"GET /fine.txt HTTP/1.9\r\n" + X + b"\r\n",
    "HTTP/0.9": b"GET /fine.txt\r\n",
    "HTTP/1.10": b"GET /fine.txt HTTP/1.10\r\n" + X + b"\r\n",
    "HTTP/11.1": b"GET /fine.txt HTTP/11.1\r\n" + X + b"\r\n",
    "HTTP/1": b"GET /fine.txt HTTP/1\r\n" + X + b"\r\n",
    "http/1.1": b"GET /fine.txt http/1.1\r\n" + X + b"\r\n",
    "HTTP 2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100),
    "POST to a file": b"POST" + GET[3:] + X + b"Content-Length: 0\r\n\r\n",
    "DELETE": b"DELETE" + GET[3:] + X + b"\r\n",
    "TRACE": b"TRACE" + GET[3:] + X + b"\r\n",
    "OPTIONS": b"OPTIONS" + GET[3:] + X + b"\r\n",
    "CONNECT": b"CONNECT x:1 HTTP/1.1\r\n" + X + b"\r\n",
    "unknown method": b"FOO" + GET[3:] + X + b"\r\n",
    "lower-case method": b"get" + GET[3:] + X + b"\r\n",
    "mixed method": b"Get" + GET[3:] + X + b"\r\n",
    "long field": GET + X + b"A: " + b"b" * 40000 + b"\r\n\r\n",
    "many fields": GET + X + b"A: b\r\n" * 20000 + b"\r\n",
    "long line": b"GET /" + b"a" * 40000 + b" HTTP/1.1\r\n" + X + b"\r\n",
    "same lengths": post(b"12345", b"Content-Length: 5\r\n"),
    "different lengths": post(b"12345", b"Content-Length: 6\r\n"),
    "list of lengths": post(b"").replace(b": 0", b": 0, 0"),
    "length and chunks": post(b"0\r\n\r\n", b"Transfer-Encoding: chunked\r\n"),
    "chunks and length": chunked(b"").replace(b"\r\n\r\n", b"\r\nContent-Length: 5\r\n\r\n"),
    "length of letters": post(b"").replace(b": 0", b": x"),
    "length with a plus": post(b"").replace(b": 0", b": +0"),
    "negative length": post(b"").replace(b": 0", b": -1"),
    "length too long": post(b"").replace(b": 0", b": " + b"9" * 30),
    "body too long": post(b"").replace(b": 0", b": 2000000"),
    "GET with a body": GET + X + b"Content-Length: 5\r\n\r\nhello",
    "chunks": chunked(b"hello"),
    "chunk's size": chunked(b"hello").replace(b"5\r", b"z\r"),
    "chunk's size overflows": chunked(b"hello").replace(b"5\r", b"f" * 20 + b"\r"),
    "chunk's end": chunked(b"hello").replace(b"hello\r\n", b"helloXX"),
    "no chunk's size": chunked(b"hello").replace(b"5\r", b"\r"),
    "chunk's extension": chunked(b"hello").replace(b"5\r", b"5;a=b\r"),
    "CHUNKED": chunked(b"hello").replace(b"chunked", b"CHUNKED"),
    "chunked twice": chunked(b"hello").replace(b"chunked", b"chunked, chunked"),
    "two codings": chunked(b"hello").replace(b"chunked", b"gzip, chunked"),
    "unknown coding": chunked(b"hello").replace(b"chunked", b"gzip"),
    "two fields of codings": (chunked(b"hello").replace(
        b"chunked\r\n", b"chunked\r\nTransfer-Encoding: chunked\r\n")),
    "HTTP/1.0 chunks": chunked(b"hello").replace(b"P/1.1", b"P/1.0"),
    "bad name": GET + X + b"A[b: c\r\n\r\n",
    "blank before the colon": GET + X + b"A : b\r\n\r\n",
    "blank in a name": GET + X + b"A b: c\r\n\r\n",
    "no colon": GET + X + b"Abc\r\n\r\n",
    "no name": GET + X + b": b\r\n\r\n",
    "folded": GET + X + b"A: b\r\n c\r\n\r\n",
    "begins with a blank": GET + b" " + X + b"\r\n",
    "NUL in a value": GET + X + b"A: b\0c\r\n\r\n",
    "NUL in a name": GET + X + b"A\0b: c\r\n\r\n",
    "control byte": GET + X + b"A: b\1c\r\n\r\n",
    "8 bits in a value": GET + X + b"A: \xe4\r\n\r\n",
    "tab in a value": GET + X + b"A:\tb\tc\t\r\n\r\n",
    "bare LF": (GET + X + b"\r\n").replace(b"\r", b""),
    "bare CR": GET + X + b"A: b\rc\r\n\r\n",
    "empty lines first": b"\r\n\r\n\n" + GET + X + b"\r\n",
    "blank first": b" " + GET + X + b"\r\n",
    "two blanks": GET.replace(b"/", b" /", 1) + X + b"\r\n",
    "blank in the path": GET.replace(b"fine", b"fi ne") + X + b"\r\n",
    "blank at the end": GET.replace(b"1.1", b"1.1 ") + X + b"\r\n",
    "tabs": GET.replace(b" ", b"\t") + X + b"\r\n",
    "only a method": b"GET\r\n\r\n",
    "absolute": GET.replace(b"/", b"http://x/", 1) + X + b"\r\n",
    "absolute, no path": b"GET http://x HTTP/1.1\r\n" + X + b"\r\n",
    "authority": GET.replace(b"/fine.txt", b"x:80") + X + b"\r\n",
    "asterisk": GET.replace(b"/fine.txt", b"*") + X + b"\r\n",
    "OPTIONS *": b"OPTIONS * HTTP/1.1\r\n" + X + b"\r\n",
    "no slash": GET.replace(b"/fine", b"fine") + X + b"\r\n",
    "8 bits in the path": GET.replace(b"fine", b"fi\xe4ne") + X + b"\r\n",
    "control byte in the path": GET.replace(b"fine", b"fi\1ne") + X + b"\r\n",
    "NUL in the path": GET.replace(b"fine", b"fi\0ne") + X + b"\r\n",
    "%00": GET.replace(b"fine", b"fine%00") + X + b"\r\n",
    "bad escape": GET.replace(b"fine", b"fi%zz") + X + b"\r\n",
    "query": GET.replace(b"txt", b"txt?a=b") + X + b"\r\n",
    "fragment": GET.replace(b"txt", b"txt#a") + X + b"\r\n",
    "dots": GET.replace(b"fine", b"a/../fine") + X + b"\r\n",
    "dots that lead out": GET.replace(b"fine", b"../fine") + X + b"\r\n",
    "escaped dots that lead out": GET.replace(b"fine", b"%2e%2e/fine") + X + b"\r\n",
    "escaped slash": GET.replace(b"fine", b"a%2ffine") + X + b"\r\n",
    "two slashes": GET.replace(b"/", b"//", 1) + X + b"\r\n",
    "unknown Expect": post(b"hello", b"Expect: cake\r\n"),
    "Expect": post(b"hello", b"Expect: 100-continue\r\n"),
    "Upgrade": GET + X + b"Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
    "Range": GET + X + b"Range: bytes=1-2\r\n\r\n",
    "last bytes": GET + X + b"Range: bytes=-2\r\n\r\n",
    "Range beyond": GET + X + b"Range: bytes=99-\r\n\r\n",
    "Range backwards": GET + X + b"Range: bytes=3-1\r\n\r\n",
    "Range of lines": GET + X + b"Range: lines=1-2\r\n\r\n",
    "Range of no bytes": GET + X + b"Range: bytes=-0\r\n\r\n",
    "directory": GET.replace(b"fine.txt", b"a") + X + b"\r\n",
    "directory without an index": GET.replace(b"fine.txt", b"a/") + X + b"\r\n",
    "no such file": GET.replace(b"fine", b"none") + X + b"\r\n",
}
# Where the answers differ: nginx's, httpd's, and why.
DIFFERENT = {
    "empty Host": ("400, end", "200, goes on", "RFC 9112 3.2: sent where there is no authority"),
    "HTTP/0.9": ("no head", "505, end", "RFC 9112 2.3: a version of the past"),
    "HTTP/1.10": ("200, goes on", "400, end", "RFC 9112 2.3: one digit, a dot, one digit"),
    "HTTP/11.1": ("505, end", "400, end", "RFC 9112 2.3: one digit, a dot, one digit"),
    "HTTP 2 preface": ("400, end", "501, end", "RFC 9110 9.1: a method that is not known"),
    "unknown method": ("405, goes on", "501, end", "RFC 9110 9.1: 405 is for those that are known"),
    "TRACE": ("405, end", "405, goes on", "RFC 9112 9.3: nothing says that it ends"),
    "OPTIONS": ("405, goes on", "204, goes on", "RFC 9110 9.3.7"),
    "OPTIONS *": ("400, end", "204, goes on", "RFC 9110 9.3.7, RFC 9112 3.2.4"),
    "CONNECT": ("400, end", "501, end", "RFC 9110 15.6.2: for no resource at all"),
    "long field": ("400, end", "431, end", "RFC 6585 5"),
    "many fields": ("400, end", "431, end", "RFC 6585 5"),
    "body too long": ("413, waits", "413, end", "RFC 9110 15.5.14: so the client need not send it"),
    "bad name": ("200, goes on", "400, end", "RFC 9110 5.1, RFC 9112 2.2: a name is a token"),
    "no colon": ("200, goes on", "400, end", "RFC 9112 5: a field has one"),
    "control byte": ("200, goes on", "400, end", "RFC 9110 5.5: no value"),
    "blank at the end": ("200, goes on", "400, end", "RFC 9112 3: nothing behind the version"),
    "%00": ("400, end", "400, goes on", "RFC 9112 9.3: the path is at fault, not the message"),
    "bad escape": ("400, end", "400, goes on", "RFC 9112 9.3: the same"),
    "dots that lead out": ("400, end", "400, goes on", "RFC 9112 9.3: the same"),
    "escaped dots that lead out": ("400, end", "400, goes on", "RFC 9112 9.3: the same"),
    "dots": ("200, goes on", "400, goes on", "RFC 3986 5.2.4: the client removes them"),
    "escaped slash": ("200, goes on", "400, goes on", "RFC 3986 2.2: not the same as a slash"),
    "two slashes": ("200, goes on", "404, goes on", "RFC 3986 3.3: another path"),
    "directory without an index": ("403, goes on", "404, goes on", "RFC 9110 15.5.4: may be hidden"),
}


def behaviour(port, data, patience):
    """What a server says to a request, and whether the next one is answered, too."""
    with Client(port, 20) as client:
        try:
            client.send(data)
        except (BrokenPipeError, ConnectionResetError):
            pass
        client.socket.settimeout(patience)
        said = []
        try:
            while True:
                answer = client.answer(data.startswith(b"HEAD"))
                said.append(str(answer[0]) if answer else "end")
                if not answer or answer[0] != 100:
                    break
            if answer:
                try:
                    client.send(b"GET /plain HTTP/1.1\r\nHost: x\r\n\r\n")
                    said.append("goes on" if client.answer() else "end")
                except (BrokenPipeError, ConnectionResetError):
                    said.append("end")
        except TimeoutError:
            said.append("waits")
        except Wrong:
            said.append("no head")
        return ", ".join(said)


def odd():
    def compare(name):
        def check():
            for patience in 1, 10:
                theirs, ours = (behaviour(port, ODD[name], patience)
                                for port in (int(ARGUMENTS[0]), PORT))
                known = DIFFERENT.get(name)
                if (theirs, ours) == known[:2] if known else theirs == ours:
                    return
            raise Wrong(f"nginx: {theirs}; httpd: {ours}")
        check.__name__ = name
        return check
    run([compare(name) for name in ODD])


try:
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
except (OSError, ValueError):
    pass
globals()[KIND]()
END

# ---- what is served ----

www=$dir/www
mkdir -p "$www/a"
echo fine | tee "$www/fine.txt" >"$www/a/fine.txt"
echo secret >"$dir/secret"
ln -s "$dir/secret" "$www/link"
ln -s "$dir" "$www/out"
ln -s .. "$www/a/up"
ln -s . "$www/up"
mkfifo "$www/fifo"
echo '<p>' >"$www/index.html"
big=20000003
python3 -c 'import random, sys
random.seed(int(sys.argv[1]))
sys.stdout.buffer.write(random.randbytes(int(sys.argv[2])))' "$seed" $big >"$www/big"
head -c 300000 "$www/big" >"$dir/part"
export MTASK_EXAMPLE_SCALE=0.4 # half a second is 0.2
each=0.2

# curl_checks: one thing after the other, as a usual client.
curl_checks() {
    answers 200 "$url/"
    has 'Content-Type: text/plain; charset=utf-8'
    answers 200 "$url/plain"
    says 'Hello, World!'
    has 'Content-Length: 13'
    answers 200 -I "$url/plain"
    has 'Content-Length: 13'
    answers 200 --http1.0 "$url/plain"
    says 'Hello, World!'
    has 'Connection: close'
    answers 200 "$url/hello/you%20there"
    says 'hello you there
'
    answers 200 --data-binary "@$dir/part" "$url/echo"
    body "$dir/part"
    answers 200 -H 'Transfer-Encoding: chunked' --data-binary "@$dir/part" "$url/echo"
    body "$dir/part"
    answers 200 -H 'Expect: 100-continue' --data-binary "@$dir/part" "$url/echo"
    body "$dir/part"
    check 'it does not say 100 Continue' grep -q '^HTTP/1.1 100 Continue' "$dir/head"
    answers 413 --data-binary "@$www/big" "$url/echo"
    answers 404 "$url/none"
    answers 404 "$url/hello/"
    answers 405 -X PUT -d x "$url/plain"
    has 'Allow: OPTIONS, GET, HEAD'
    answers 204 -X OPTIONS "$url/plain"
    has 'Allow: OPTIONS, GET, HEAD'
    lacks Content-Length
    answers 501 -X NONE "$url/plain"
    # keep-alive
    curl -sS -o /dev/null -o /dev/null -o /dev/null -w '%{num_connects}' --max-time 30 \
        "$url/plain" "$url/none" "$url/fine.txt" >"$dir/body" 2>"$dir/curl"
    says 100
}

# file_checks: static files.
file_checks() {
    answers 200 "$url/big"
    body "$www/big"
    has 'Content-Type: application/octet-stream'
    answers 200 "$url/static/big"
    body "$www/big"
    for range in 0-0 1-2 10-299999 19999990- -5 19999999-99999999; do
        answers 206 -r "$range" "$url/big"
        curl -sS -r "$range" "file://$www/big" >"$dir/want"
        body "$dir/want"
    done
    has "Content-Range: bytes 19999999-20000002/20000003"
    answers 416 -r 20000003- "$url/big"
    has 'Content-Range: bytes \*/20000003'
    answers 200 -r 1-2,5-6 "$url/fine.txt"
    answers 200 -r 1-2 -H 'If-Range: "x"' "$url/fine.txt"
    modified=$(sed -n 's/^Last-Modified: \(.*\).$/\1/p' "$dir/head")
    answers 206 -r 1-2 -H "If-Range: $modified" "$url/fine.txt"
    answers 304 -z "$modified" "$url/fine.txt"
    lacks Content-Length
    answers 304 -z 'Fri, 01 Jan 2100 00:00:00 GMT' "$url/fine.txt"
    answers 200 -z 'Fri, 01 Jan 1999 00:00:00 GMT' "$url/fine.txt"
    has 'Content-Type: text/plain; charset=utf-8'
    answers 301 "$url/static/a"
    has 'Location: ./a/'
    answers 404 "$url/a/"
    answers 200 "$url/static/"
    body "$www/index.html"
    has 'Content-Type: text/html; charset=utf-8'
}

# special: servers with other options.
special() {
    start -t 0.4 -k 0.4 -d "$www"
    raw slow "$port"
    raw greedy "$port" $big
    stop
    start -c 2 -t 100
    raw crowded "$port"
    stop
    start -k 0.4 -t 100
    raw idle "$port"
    stop
    MTASK_EXAMPLE_SCALE=1 start
    raw graceful "$port" $pid
    wait $pid
    check 'the exit status after SIGTERM' [ $? -eq 0 ]
    check 'it says something' [ ! -s "$dir/err" ]
    start -l 2 -d "$www"
    for path in / /plain /fine.txt /hello/you; do
        answers 200 "$url$path"
    done
    stop
}

# few: with 64 descriptors it stops to accept, and goes on later.
few() {
    usual=$runner
    runner="prlimit --nofile=64:64 $runner"
    start -d "$www"
    runner=$usual
    before=$(descriptors)
    raw exhausted "$port"
    settles "$before"
    stop
}

# arguments: what it says to people.
arguments() {
    $runner "$httpd" --help >"$dir/body" 2>"$dir/err"
    check '--help' [ $? -eq 0 ]
    check 'usage' grep -q '^usage: httpd' "$dir/body"
    for argument in -x '-l 0' '-c x' '-t -1' '-b 1x' '-k' file; do
        timeout 20 $runner "$httpd" -p 0 $argument >"$dir/body" 2>"$dir/err"
        check "exit status for $argument" [ $? -eq 2 ]
        check "usage for $argument" grep -q '^usage: httpd' "$dir/err"
    done
    for argument in '-p none-of-this' '-d /none' '-p 256.256.256.256:80'; do
        timeout 20 $runner "$httpd" $argument >"$dir/body" 2>"$dir/err"
        check "exit status for $argument" [ $? -eq 1 ]
        check "message for $argument" grep -q '^httpd: [^ ]*: .' "$dir/err"
    done
}

# start_nginx: nginx with the same files, $nginx_port.
start_nginx() {
    mkdir -p "$dir/nginx"
    nginx_port=$(python3 -c 'import socket
s = socket.create_server(("127.0.0.1", 0))
print(s.getsockname()[1])')
    cat >"$dir/nginx/conf" <<END
daemon off; master_process off; pid $dir/nginx/pid; error_log /dev/null crit;
events { worker_connections 512; }
http {
    access_log off; default_type application/octet-stream;
    client_body_temp_path $dir/nginx/body; proxy_temp_path $dir/nginx/proxy;
    fastcgi_temp_path $dir/nginx/fastcgi; uwsgi_temp_path $dir/nginx/uwsgi;
    scgi_temp_path $dir/nginx/scgi;
    server {
        listen 127.0.0.1:$nginx_port;
        root $www;
        location = /plain { return 200 'Hello, World!'; }
        location = /echo { return 200 'hello'; }
    }
}
END
    nginx -p "$dir/nginx" -e /dev/null -c "$dir/nginx/conf" >"$dir/nginx/out" 2>&1 &
    nginx_pid=$!
    tries=0
    while ! curl -sf "http://127.0.0.1:$nginx_port/plain" >/dev/null && [ $tries -lt 200 ]; do
        sleep 0.02
        tries=$((tries + 1))
    done
}

end_nginx() {
    kill $nginx_pid
    wait $nginx_pid
    nginx_pid=
}

# load: wrk, which counts what goes wrong.
load() {
    timeout 60 wrk -t1 -c50 -d1s "$url/plain" >"$dir/body" 2>&1
    check 'wrk' [ $? -eq 0 ]
    check "wrk: $(cat "$dir/body")" grep -q 'requests in' "$dir/body"
    check "wrk: $(grep -E 'Socket|Non' "$dir/body")" [ "$(grep -cE 'Socket|Non-2xx' "$dir/body")" = 0 ]
}

# essentials KIND: one server with many clients; "exact": its memory is measured, too.
essentials() {
    start -d "$www" -t 20 -k 20
    get "$url/plain"
    before=$(descriptors)
    raw many "$port" $pid "$1" $each "$seed" $big
    raw overlap "$port" $pid "$1" $each
    ! command -v wrk >/dev/null || load
    settles "$before"
    stop
}

# against_nginx: the same odd requests.
against_nginx() {
    if ! command -v nginx >/dev/null; then
        echo 'skipped: nginx'
        return
    fi
    start -d "$www" -t 20 -k 20
    start_nginx
    raw odd "$port" "$nginx_port"
    end_nginx
    stop
}

# all KIND: everything.
all() {
    essentials "$1"
    start -d "$www" -t 20 -k 20
    get "$url/plain"
    before=$(descriptors)
    curl_checks
    file_checks
    settles "$before"
    stop
    against_nginx
    special
    few
    arguments
}

# use PROGRAM: the one to be tested; false if it could not be built.
use() {
    httpd=$1
    cp "$1.log" "$dir/err"
    check "cannot build $1" [ -x "$1" ]
    [ -x "$1" ] && find_runner "$1"
}

# ---- builds ----

echo "seed: $seed"
if [ -n "$flags" ]; then
    kind=exact
    case $flags in *-fsanitize*) kind=roughly ;; esac
    build "$dir/httpd" "${CC:-cc}" "$flags"
    use "$dir/httpd" && all $kind
else
    warnings='-Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wundef -Werror'
    asan='-O0 -g -fsanitize=address,undefined -fno-sanitize-recover=all'
    build "$dir/asan" "clang -std=c11" "$warnings $asan" &
    build "$dir/plain" "${CC:-cc}" "$warnings"
    wait $!
    use "$dir/asan" && all roughly
    use "$dir/plain" && essentials exact
fi

echo "httpd: $passed passed, $failed failed"
[ "$failed" -eq 0 ]
