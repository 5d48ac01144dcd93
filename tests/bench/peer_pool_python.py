#!/usr/bin/env python3
"""peer_pool_python.py FIGURE - ThreadPoolExecutor and multiprocessing.pool.ThreadPool: prints ns per
task or item, or us for future_roundtrip; `version` prints what runs it. The figures are those of
bench_pool.c, which has the same loops."""
import os
import platform
import sys
import time
from concurrent.futures import ThreadPoolExecutor, wait
from multiprocessing.pool import ThreadPool

WORKERS = int(os.environ.get("MTASK_BENCH_WORKERS", "2"))


def nothing():
    return 1


def square(x):
    return x * x


def empty(pool, tasks):
    wait([pool.submit(nothing) for _ in range(tasks)])


def batch(pool, tasks):
    futures = [pool.submit(nothing) for _ in range(tasks)]
    assert sum(future.result() for future in futures) == tasks, "a wrong result"


def roundtrips(pool, tasks):
    total = 0
    for _ in range(tasks):
        total += pool.submit(nothing).result()
    assert total == tasks, "a wrong result"


def squares(pool, items):
    results = pool.map(square, range(items))
    assert results[-1] == (items - 1) ** 2, "a wrong result"


def warm(pool, run, count):
    """Nanoseconds per piece of a run after one, a quarter as long, to warm up."""
    run(pool, count // 4)
    began = time.perf_counter()
    run(pool, count)
    return (time.perf_counter() - began) / count * 1e9


def main():
    figure = sys.argv[1] if len(sys.argv) > 1 else ""
    if figure == "version":
        print("python", platform.python_version())
    elif figure == "submit_empty":
        with ThreadPoolExecutor(WORKERS) as pool:
            print(warm(pool, empty, 40000))
    elif figure == "submit_future":
        with ThreadPoolExecutor(WORKERS) as pool:
            print(warm(pool, batch, 40000))
    elif figure == "future_roundtrip":
        with ThreadPoolExecutor(WORKERS) as pool:
            print(warm(pool, roundtrips, 8000) / 1000)
    elif figure == "map_vs_python":
        with ThreadPool(WORKERS) as pool:
            print(warm(pool, squares, 1000000))
    else:
        sys.exit(f"peer_pool_python: no figure '{figure}'")


if __name__ == "__main__":
    main()
