#!/usr/bin/env python3
"""peer_queue_python.py FIGURE - queue.Queue between two threads and multiprocessing.Queue between
two processes: prints ns per item; `version` prints what runs it. The figures are those of
bench_queue.c, which has the same loops."""
import multiprocessing
import platform
import queue
import sys
import threading
import time

CAPACITY = 1024


def produce(q, start, counts):
    for count in counts:
        start.wait()
        for i in range(count):
            q.put(i)


def consume(q, start, count):
    """Gets `count` items; ns per item."""
    total = 0
    start.wait()
    began = time.perf_counter()
    for _ in range(count):
        total += q.get()
    lasted = time.perf_counter() - began
    assert total == count * (count - 1) // 2, "items got lost"
    return lasted / count * 1e9


def flow(q, start, worker, items):
    """The figure of a run after one, a quarter as long, to warm up."""
    producer = worker(target=produce, args=(q, start, (items // 4, items)))
    producer.start()
    consume(q, start, items // 4)
    figure = consume(q, start, items)
    producer.join()
    return figure


def main():
    figure = sys.argv[1] if len(sys.argv) > 1 else ""
    if figure == "version":
        print("python", platform.python_version())
    elif figure == "queue_vs_python":
        print(flow(queue.Queue(CAPACITY), threading.Barrier(2), threading.Thread, 200000))
    elif figure == "shared_fifo_1p1c":
        # without a bound, since that is faster: a bound costs a semaphore
        print(flow(multiprocessing.Queue(), multiprocessing.Barrier(2), multiprocessing.Process,
                   60000))
    else:
        sys.exit(f"peer_queue_python: no figure '{figure}'")


if __name__ == "__main__":
    main()
