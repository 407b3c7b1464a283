"""What the processes of tests of job stores run: `python -m tests.support.job_processes NAME …`.

They report each step in a line, and wait for a line before they go on.
"""

import ctypes
import os
import sys
import threading
from collections.abc import Callable
from itertools import count

from clusterd.jobs.drive import drive
from clusterd.jobs.node import owner
from clusterd.jobs.records import Claim, NewJob, Outcome
from clusterd.jobs.sqlite import SqliteStore
from clusterd.jobs.states import Event


def put(store: SqliteStore, number: int, unique_key: str = "") -> bool:
    job = NewJob(f"{number:032x}", "mail", b"{}", unique_key=unique_key)
    (stored,) = drive(store.enqueue([job]))
    return stored.created


def say(*words: object) -> None:
    os.write(1, f"{' '.join(map(str, words))}\n".encode())


def await_line() -> None:
    sys.stdin.readline()


def enqueue_for_ever(path: str) -> None:
    """Report each job once it is stored."""
    store = SqliteStore(path)
    for number in count(1):
        put(store, number)
        say(number)


def work(path: str) -> None:
    """Run all jobs, five at a time, and report each."""
    store = SqliteStore(path)
    drive(store.open())
    say("ready")
    await_line()
    claim = Claim(owner(), ("mail",), ("default",), 5, 30.0)
    outcomes: list[Outcome] = []
    while True:
        taken, jobs = drive(store.finish(outcomes, claim))
        assert all(taken)
        if not jobs:
            return
        say(*(int(job.id, 16) for job in jobs))
        outcomes = [Outcome(job.id, job.token, Event.SUCCEEDED) for job in jobs]


def unique(path: str, first: str) -> None:
    """Enqueue jobs of one unique key, and report how many were stored."""
    store = SqliteStore(path)
    drive(store.open())
    say("ready")
    await_line()
    say(sum(put(store, int(first) + n, "k") for n in range(25)))


def one(path: str, number: str) -> None:
    """Enqueue one job, and close the store."""
    store = SqliteStore(path)
    put(store, int(number))
    drive(store.close())


def fork(path: str, fork: Callable[[], int] = os.fork) -> None:
    """Enqueue, fork, let the parent end, enqueue in the child."""
    store = SqliteStore(path)
    put(store, 1)
    if fork():
        os._exit(0)  # as a killed process: it closes nothing
    put(store, 2)
    say("child")
    await_line()
    put(store, 3)
    say("stored")
    drive(store.close())


def raw_fork(path: str) -> None:
    """Fork behind the back of Python; both go on with the store."""
    store = SqliteStore(path)
    put(store, 1)
    libc = ctypes.PyDLL(None)
    if pid := libc.fork():
        os.waitpid(pid, 0)
        put(store, 3)
        drive(store.close())
    else:
        put(store, 2)
        drive(store.close())
        os._exit(0)


def fork_among_threads(path: str) -> None:
    """Fork again and again while threads enqueue. Each child enqueues, too."""
    store = SqliteStore(path)
    threads = [
        threading.Thread(target=lambda n=n: [put(store, n * 1000 + m) for m in range(100)])
        for n in range(1, 4)
    ]
    for thread in threads:
        thread.start()
    pids = []
    for number in range(10):
        if not (pid := os.fork()):
            put(store, number)
            os._exit(0)
        pids.append(pid)
    for thread in threads:
        thread.join()
    say(*{os.waitpid(pid, 0)[1] for pid in pids})
    drive(store.close())


if __name__ == "__main__":
    name, *arguments = sys.argv[1:]
    globals()[name](*arguments)
