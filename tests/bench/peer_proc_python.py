#!/usr/bin/env python3
"""peer_proc_python.py FIGURE - multiprocessing, concurrent.futures and subprocess: prints the figure
in the unit that bench_proc.c gives it; `version` prints what runs it. The figures are those of
bench_proc.c, which has the same loops. Processes are forked, as ours are, unless the figure says
otherwise."""
import multiprocessing
import os
import platform
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor

WORKERS = int(os.environ.get("MTASK_BENCH_WORKERS", "2"))
MIB = 1 << 20
BIG_IN_FLIGHT = 16
FORK = multiprocessing.get_context("fork")
CPUS = sorted(os.sched_getaffinity(0))
NEAR, FAR = 0, 1  # where processes run that hand something to each other


def nothing():
    pass


def same(x):
    return x


def bind_to(number):
    os.sched_setaffinity(0, {CPUS[number % len(CPUS)]})


def us_each(once, count):
    """Microseconds for each call, after some to warm up."""
    for _ in range(count // 4):
        once()
    began = time.perf_counter()
    for _ in range(count):
        once()
    return (time.perf_counter() - began) / count * 1e6


def start_join(method, count):
    context = multiprocessing.get_context(method)

    def once():
        process = context.Process(target=nothing)
        process.start()
        process.join()
        assert process.exitcode == 0, "a process failed"
        process.close()

    return us_each(once, count)


def process_start_join():
    return start_join("fork", 50)


def spawn_start_join():
    return start_join("spawn", 8)


def forkserver_start_join():
    return start_join("forkserver", 20)


def run_true():
    return us_each(lambda: subprocess.run(["/bin/true"], check=True), 300)


def run_capture():
    def once():
        result = subprocess.run(["/bin/echo", "hello"], capture_output=True, check=True)
        assert result.stdout == b"hello\n", "wrong output"

    return us_each(once, 300)


def capture_GB_per_s():
    size = 256 * MIB
    command = ["head", "-c", str(size), "/dev/zero"]
    began = time.perf_counter()
    result = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    lasted = time.perf_counter() - began
    assert len(result.stdout) == size, "wrong output"
    return size / lasted / 1e9


def executor():
    return ProcessPoolExecutor(WORKERS, mp_context=FORK)


def batch(pool, tasks):
    futures = [pool.submit(same, i) for i in range(tasks)]
    assert sum(future.result() for future in futures) == tasks * (tasks - 1) // 2, "wrong results"


def procpool_submit():
    with executor() as pool:
        batch(pool, 2000)
        return us_each(lambda: batch(pool, 10000), 1) / 10000


def procpool_roundtrip():
    with executor() as pool:
        return us_each(lambda: pool.submit(same, 1).result(), 2000)


def procpool_1MiB():
    block = bytes(MIB)

    def once(pool):
        futures = [pool.submit(same, block) for _ in range(BIG_IN_FLIGHT)]
        assert all(len(future.result()) == MIB for future in futures), "wrong results"

    with executor() as pool:
        return us_each(lambda: once(pool), 6) / BIG_IN_FLIGHT


def procpool_map():
    items = range(30000)
    with FORK.Pool(WORKERS) as pool:
        pool.map(same, range(5000), 1)
        return us_each(lambda: pool.map(same, items, 1), 1) / len(items)


def procpool_start():
    def once():
        with FORK.Pool(WORKERS) as pool:
            pass
        pool.join()

    return us_each(once, 8)


def pss_kib(pid):
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("Pss:"))


def procpool_worker_KiB():
    with FORK.Pool(WORKERS) as pool:
        pool.map(same, range(10000), 1)
        pids = [child.pid for child in multiprocessing.active_children()]
        assert len(pids) == WORKERS, "not all workers are there"
        return sum(map(pss_kib, pids)) / WORKERS


def put_all(queue, items):
    bind_to(FAR)
    for i in range(items):
        queue.put(i)


def shared_queue():
    items = 50000
    queue = FORK.Queue()
    process = FORK.Process(target=put_all, args=(queue, items), daemon=True)
    process.start()
    bind_to(NEAR)
    total = queue.get()
    began = time.perf_counter()
    for _ in range(items - 1):
        total += queue.get()
    lasted = time.perf_counter() - began
    process.join()
    assert total == items * (items - 1) // 2, "items got lost"
    return lasted / (items - 1) * 1e9


def add_all(value, count):
    for _ in range(count):
        with value.get_lock():
            value.value += 1


def shared_value():
    value = FORK.Value("q", 0)
    return us_each(lambda: add_all(value, 50000), 4) / 50000 * 1e3


def answer_all(near, far):
    bind_to(FAR)
    far.close()
    try:
        while True:
            near.send_bytes(near.recv_bytes())
    except EOFError:
        pass


def pipe_roundtrip():
    near, far = FORK.Pipe()
    process = FORK.Process(target=answer_all, args=(far, near), daemon=True)
    process.start()
    bind_to(NEAR)
    far.close()

    def once():
        near.send_bytes(b"sixteen bytes...")
        near.recv_bytes()

    figure = us_each(once, 5000)
    near.close()
    process.join()
    return figure


def send_all(near, far, messages):
    bind_to(FAR)
    near.close()
    block = bytes(MIB)
    for _ in range(messages):
        far.send_bytes(block)


def pipe_with(duplex):
    messages = 500
    near, far = FORK.Pipe(duplex)
    process = FORK.Process(target=send_all, args=(near, far, messages), daemon=True)
    process.start()
    bind_to(NEAR)
    far.close()
    total = -MIB + len(near.recv_bytes())
    began = time.perf_counter()
    for _ in range(messages - 1):
        total += len(near.recv_bytes())
    lasted = time.perf_counter() - began
    process.join()
    assert total == (messages - 1) * MIB, "bytes got lost"
    return total / lasted / 1e9


def pipe_GB_per_s():
    return pipe_with(True)


def pipe_oneway_GB_per_s():
    return pipe_with(False)


FIGURES = (
    process_start_join,
    spawn_start_join,
    forkserver_start_join,
    run_true,
    run_capture,
    capture_GB_per_s,
    procpool_submit,
    procpool_roundtrip,
    procpool_1MiB,
    procpool_map,
    procpool_start,
    procpool_worker_KiB,
    shared_queue,
    shared_value,
    pipe_roundtrip,
    pipe_GB_per_s,
    pipe_oneway_GB_per_s,
)


def main():
    figure = sys.argv[1] if len(sys.argv) > 1 else ""
    runs = [run for run in FIGURES if run.__name__ == figure]
    if figure == "version":
        print("python", platform.python_version())
    elif runs:
        print(runs[0]())
    else:
        sys.exit(f"peer_proc_python: no figure '{figure}'")


if __name__ == "__main__":
    main()
