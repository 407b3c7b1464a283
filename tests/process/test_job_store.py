"""Real processes share a job store: forks, deaths, races."""

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from clusterd.jobs.drive import drive
from clusterd.jobs.records import Filter, NewJob
from clusterd.jobs.sqlite import SqliteStore
from clusterd.jobs.states import State

ROOT = Path(__file__).parents[2]
Process = subprocess.Popen[str]


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "jobs.sqlite3")


def start(*arguments: object) -> Process:
    command = [sys.executable, "-W", "ignore", "-m", "tests.support.job_processes"]
    return subprocess.Popen(
        [*command, *map(str, arguments)],
        cwd=ROOT,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )


def line(process: Process) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def go_on(*processes: Process) -> None:
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()


def rest(process: Process) -> list[str]:
    """Return the lines until the end of a process, which must be a good one."""
    lines = remaining(process)
    assert process.returncode == 0
    return lines


def remaining(process: Process) -> list[str]:
    """Return the lines until the end of a process. `communicate` would miss what is buffered."""
    assert process.stdout is not None
    assert process.stdin is not None
    lines = process.stdout.read().splitlines()
    process.stdin.close()
    process.stdout.close()
    process.wait()
    return lines


@contextlib.contextmanager
def opened(path: str) -> Iterator[SqliteStore]:
    store = SqliteStore(path)
    try:
        yield store
    finally:
        drive(store.close())


def stored(path: str) -> list[int]:
    with opened(path) as store:
        return sorted(int(info.id, 16) for info in drive(store.find(Filter(limit=0))))


def test_what_a_killed_process_has_stored_is_there(path: str) -> None:
    process = start("enqueue_for_ever", path)
    acknowledged = [int(line(process)) for _ in range(50)]
    process.kill()
    acknowledged += [int(number) for number in remaining(process)]
    found = stored(path)
    assert set(acknowledged) <= set(found)
    assert len(found) - len(acknowledged) in (0, 1)  # one was stored, and not reported yet


def test_each_job_is_claimed_once_by_one_of_many_processes(path: str) -> None:
    with opened(path) as store:
        processes = [start("work", path) for _ in range(4)]
        assert {line(each) for each in processes} == {"ready"}
        for number in range(200):
            drive(store.enqueue([job_of(number)]))
        go_on(*processes)
        claimed = [int(number) for each in processes for number in " ".join(rest(each)).split()]
        assert sorted(claimed) == list(range(200))
        (queue,) = drive(store.stats())
        assert queue.counts == {State.COMPLETED: 200}


def job_of(number: int) -> NewJob:
    return NewJob(f"{number:032x}", "mail", b"{}")


def test_one_of_many_unique_jobs_is_stored_whoever_comes_first(path: str) -> None:
    processes = [start("unique", path, n * 100) for n in range(4)]
    assert {line(each) for each in processes} == {"ready"}
    go_on(*processes)
    assert sum(int(number) for each in processes for number in rest(each)) == 1
    assert len(stored(path)) == 1


def test_a_forked_child_has_locks_of_its_own(path: str) -> None:
    """A child that had its parent's would lose what it writes: another process that closes last,
    as it thinks, deletes the write-ahead log."""
    process = start("fork", path)
    assert line(process) == "child"
    process.wait()  # the parent
    assert rest(start("one", path, 7)) == []
    go_on(process)
    assert remaining(process) == ["stored"]
    assert stored(path) == [1, 2, 3, 7]


def test_a_fork_that_python_does_not_see_harms_neither_process(path: str) -> None:
    assert rest(start("raw_fork", path)) == []
    assert stored(path) == [1, 2, 3]


def test_forks_among_threads_neither_wait_nor_lose(path: str) -> None:
    assert rest(start("fork_among_threads", path)) == ["0"]
    threads = [n * 1000 + m for n in range(1, 4) for m in range(100)]
    assert stored(path) == sorted([*range(10), *threads])
