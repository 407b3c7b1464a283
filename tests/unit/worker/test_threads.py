"""The thread pool: bounded, lazy, and honest about what it is at."""

import math
import queue
import threading
from collections.abc import Iterator

import pytest

from clusterd.worker.threads import Pool

WAIT = 10.0  # seconds; a limit, not a wait


class Held:
    """A job that tells when it began, and waits until it is let go."""

    def __init__(self, exchange: str = "") -> None:
        self.exchange = exchange
        self.since = 0.0
        self.began = threading.Event()
        self.go = threading.Event()
        self.ended = threading.Event()

    def work(self) -> None:
        self.began.set()
        assert self.go.wait(WAIT)
        self.ended.set()

    def end(self) -> None:
        self.go.set()
        assert self.ended.wait(WAIT)


@pytest.fixture
def pool() -> Iterator[Pool]:
    made = Pool(2, lambda: CLOCK[0])
    yield made
    made.close()


CLOCK = [100.0]


def test_threads_are_started_when_they_are_needed(pool: Pool) -> None:
    jobs = [Held(), Held(), Held()]
    for number, job in enumerate(jobs[:2]):
        pool.submit(job)
        assert job.began.wait(WAIT)
        assert pool.threads == number + 1
    pool.submit(jobs[2])
    assert pool.threads == 2
    assert not jobs[2].began.is_set()
    jobs[0].end()
    assert jobs[2].began.wait(WAIT)
    jobs[1].end()
    jobs[2].end()


def test_a_free_thread_is_used_again(pool: Pool) -> None:
    for _ in range(5):
        job = Held()
        pool.submit(job)
        job.end()
        pool.done()
    assert pool.threads == 1


def test_it_tells_when_it_is_full(pool: Pool) -> None:
    told: list[bool] = []
    pool.changed = lambda: told.append(pool.is_full)
    jobs = [Held(), Held(), Held()]
    for job in jobs:
        pool.submit(job)
    assert told == [True]
    freed: list[int] = []
    pool.when_done(lambda: freed.append(pool.busy))
    pool.done()
    pool.done()
    assert told == [True, False]
    assert freed == [2]  # once
    for job in jobs:
        job.end()


def test_what_takes_too_long_is_found_once(pool: Pool) -> None:
    job = Held("slow")
    pool.submit(job)
    assert job.began.wait(WAIT)
    assert list(pool.overdue(5.0)) == []
    CLOCK[0] += 6.0
    ((found, seconds, ident),) = pool.overdue(5.0)
    assert found is job
    assert seconds == 6.0
    assert ident in {thread.ident for thread in threading.enumerate()}
    assert list(pool.overdue(5.0)) == []
    job.end()
    pool.done()


def test_signs_of_life_count(pool: Pool) -> None:
    """An app that sends a piece now and then is not stuck, nor one that waits for its client."""
    job = Held()
    pool.submit(job)
    assert job.began.wait(WAIT)
    CLOCK[0] += 6.0
    job.since = CLOCK[0] - 1
    assert list(pool.overdue(5.0)) == []
    job.since = math.inf
    CLOCK[0] += 1000.0
    assert list(pool.overdue(5.0)) == []
    job.end()


def test_a_job_that_waits_for_a_thread_does_not_take_long(pool: Pool) -> None:
    first, second, third = Held(), Held(), Held()
    for job in (first, second, third):
        pool.submit(job)
    assert second.began.wait(WAIT)
    CLOCK[0] += 6.0
    first.end()
    assert third.began.wait(WAIT)
    assert [job for job, _, _ in pool.overdue(5.0)] == [second]
    second.end()
    third.end()


def test_closed_it_ends_its_threads_after_what_waits() -> None:
    pool = Pool(1)
    order: queue.SimpleQueue[int] = queue.SimpleQueue()

    class Job:
        exchange = None
        since = 0.0

        def work(self) -> None:
            order.put(threading.get_ident())

    pool.submit(Job())
    pool.submit(Job())
    pool.close()
    ident = order.get(timeout=WAIT)
    assert order.get(timeout=WAIT) == ident
    for thread in threading.enumerate():
        if thread.ident == ident:
            thread.join(WAIT)
            assert not thread.is_alive()
