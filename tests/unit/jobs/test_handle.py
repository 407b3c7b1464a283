"""Handles: waiting for results without asking again and again, and what they raise."""

import asyncio
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from clusterd.jobs import (
    Handle,
    JobCancelled,
    JobExpired,
    JobFailed,
    JobNotFound,
    Jobs,
    State,
    StoreUnavailable,
    waiting,
)
from clusterd.jobs.backend import Backend, PlainCodec
from clusterd.jobs.bell import EventBell
from clusterd.jobs.drive import drive
from clusterd.jobs.memory import MemoryStore
from clusterd.jobs.records import Attempt, Claim, Claimed, Filter, JobInfo, Outcome, Owner
from clusterd.jobs.states import Event

CLAIM = Claim(Owner("n", 1, 1), ("double",), ("default",), 1000, 60.0)


def double(n: int) -> int:
    return 2 * n


class CountingStore(MemoryStore):
    """Counts how often it is asked, and says when a caller waits."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0
        self.waits = threading.Semaphore(0)
        self.bells: list[EventBell] = []
        self.fault: Exception | None = None
        self.now = time.time_ns() // 1000
        self._clock = lambda: self.now

    async def get(self, id: str) -> JobInfo | None:
        self.asked += 1
        self.waits.release()
        return await super().get(id)

    async def find(self, filter: Filter) -> list[JobInfo]:
        self.asked += 1
        if self.fault is not None:
            raise self.fault
        return await super().find(filter)

    def finished_bell(self) -> EventBell:
        self.bells.append(super().finished_bell())
        return self.bells[-1]


class Case:
    """A job with its store, and what a worker would do."""

    def __init__(self) -> None:
        self.store = CountingStore()
        self.jobs = Jobs()
        self.jobs.backend = Backend("", PlainCodec(), self.store)
        self.job = self.jobs.job(name="double")(double)

    def claim(self) -> Sequence[Claimed]:
        return drive(self.store.claim(CLAIM))

    def finish(self, *claimed: Claimed, event: Event = Event.SUCCEEDED, **said: Any) -> None:
        outcomes = [Outcome(one.id, one.token, event, **said) for one in claimed]
        assert all(drive(self.store.finish(outcomes))[0])


@pytest.fixture
def case() -> Case:
    return Case()


@pytest.fixture(autouse=True)
def _only_bells_wake(monkeypatch: pytest.MonkeyPatch) -> None:
    """A ring may be lost, so the store is asked now and then: not here, where none is."""
    monkeypatch.setattr(waiting, "LOOK", 3600.0)
    monkeypatch.setattr(waiting, "LOOK_AT_ONE", 3600.0)


@pytest.fixture(autouse=True)
def _no_bell_stays_open(case: Case) -> Iterator[None]:
    yield
    assert all(bell._fd < 0 for bell in case.store.bells)


def test_a_result_that_is_there_is_returned_at_once(case: Case) -> None:
    handle = case.job.enqueue(4)
    case.finish(*case.claim(), result=b"8")
    assert handle.result(timeout=0) == 8

    async def main() -> int:
        return await handle.aresult(timeout=0)

    assert asyncio.run(main()) == 8


def test_a_plain_wait_ends_with_the_ring(case: Case) -> None:
    handle = case.job.enqueue(4)
    claimed = case.claim()
    results: list[int] = []
    thread = threading.Thread(target=lambda: results.append(handle.result(timeout=60)))
    thread.start()
    assert case.store.waits.acquire(timeout=30)  # it has looked, and its bell is watched
    case.finish(*claimed, result=b"8")
    thread.join(30)
    assert results == [8]
    assert case.store.asked == 2


def test_a_thousand_coroutines_wait_with_one_bell(case: Case) -> None:
    async def main() -> None:
        handles = [await case.job.aenqueue(n) for n in range(1000)]
        claimed = case.claim()
        waiting = [asyncio.create_task(handle.aresult(timeout=60)) for handle in handles]
        while case.store.asked < 1001:  # each has looked, and then the task that watches
            await asyncio.sleep(0)
        case.finish(*claimed, result=b"8")
        assert await asyncio.gather(*waiting) == [8] * 1000
        assert len(case.store.bells) == 1
        # Each looked once before it waited and once when it was woken; a few queries are of all.
        assert case.store.asked <= 2 * 1000 + 20
        assert len(asyncio.all_tasks()) <= 2
        while len(asyncio.all_tasks()) > 1:  # the task that watched ends by itself
            await asyncio.sleep(0)

    asyncio.run(main())


def test_a_job_that_ends_right_before_its_wait_begins_is_noticed(case: Case) -> None:
    """After its caller looked, and while others wait already, so that the ring wakes only them."""

    async def main() -> None:
        first, second = await case.job.aenqueue(1), await case.job.aenqueue(2)
        claimed = {one.id: one for one in case.claim()}
        waits = asyncio.create_task(first.aresult(timeout=60))
        while case.store.asked < 2:
            await asyncio.sleep(0)
        usual = case.store.get

        async def ends_meanwhile(id: str) -> JobInfo | None:
            info = await usual(id)
            if id in claimed:
                case.finish(claimed.pop(id), result=b"4")
                for _ in range(
                    10
                ):  # the task that watches hears of it, and finds nothing of its own
                    await asyncio.sleep(0)
            return info

        case.store.get = ends_meanwhile  # type: ignore[method-assign]
        assert await second.aresult(timeout=60) == 4
        case.store.get = usual  # type: ignore[method-assign]
        waits.cancel()
        while len(asyncio.all_tasks()) > 1:
            await asyncio.sleep(0)

    asyncio.run(main())


def test_a_wait_that_is_cancelled_leaves_nothing(case: Case) -> None:
    async def main() -> None:
        handle = await case.job.aenqueue(1)
        for _ in range(3):
            task = asyncio.create_task(handle.aresult())
            while not case.store.bells or case.store.bells[-1]._fd < 0:
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            while len(asyncio.all_tasks()) > 1:
                await asyncio.sleep(0)

    asyncio.run(main())


def test_a_timeout_says_where_the_job_is(case: Case) -> None:
    handle = case.job.options(delay="1h").enqueue(1)
    with pytest.raises(TimeoutError, match="scheduled"):
        handle.result(timeout=0)
    case.job.enqueue(1)

    async def main() -> None:
        with pytest.raises(TimeoutError, match="scheduled"):
            await handle.aresult(timeout=0.001)
        while len(asyncio.all_tasks()) > 1:
            await asyncio.sleep(0)

    asyncio.run(main())


def outcome_of(handle: Handle[int]) -> BaseException:
    with pytest.raises(JobFailed) as caught:
        handle.result(timeout=0)

    async def main() -> None:
        with pytest.raises(type(caught.value)):
            await handle.aresult(timeout=0)

    asyncio.run(main())
    return caught.value


def test_other_ends_are_raised(case: Case) -> None:
    handle = case.job.enqueue(1)
    trace = "Traceback (most recent call last):\n  …\nKeyError: 'x'\n"
    case.finish(*case.claim(), event=Event.EXHAUSTED, error=trace)
    failed = outcome_of(handle)
    assert isinstance(failed, JobFailed)
    assert failed.traceback == trace
    assert str(failed) == f"the job {handle.id} (double) failed: KeyError: 'x'"

    cancelled = case.job.enqueue(1)
    assert cancelled.cancel()
    assert not cancelled.cancel()
    assert isinstance(outcome_of(cancelled), JobCancelled)

    expired = case.job.options(expires=5).enqueue(1)
    case.store.now += 10_000_000
    drive(case.store.promote())
    assert isinstance(outcome_of(expired), JobExpired)

    gone = case.job.enqueue(1)
    drive(case.store.purge(Filter(ids=(gone.id,), states=(State.AVAILABLE,))))
    assert isinstance(outcome_of(gone), JobNotFound)
    with pytest.raises(JobNotFound):
        gone.info()


def test_a_store_that_fails_fails_those_who_wait(case: Case) -> None:
    case.store.fault = StoreUnavailable("away")

    async def main() -> None:
        handles = [await case.job.aenqueue(n) for n in range(3)]
        waiting = [asyncio.create_task(handle.aresult()) for handle in handles]
        found = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(one) for one in found] == [StoreUnavailable] * 3
        case.store.fault = None
        case.finish(*case.claim(), result=b"8")
        assert await handles[0].aresult() == 8

    asyncio.run(main())


def test_without_a_descriptor_the_store_is_asked_now_and_then(case: Case) -> None:
    """A user has 128 inotify instances."""

    class NoBell(EventBell):
        def fileno(self) -> int:
            raise OSError(24, "too many open files")

    case.store.finished_bell = NoBell  # type: ignore[method-assign]
    handle = case.job.enqueue(4)
    claimed = case.claim()
    results: list[int] = []
    thread = threading.Thread(target=lambda: results.append(handle.result(timeout=60)))
    thread.start()
    assert case.store.waits.acquire(timeout=30)
    case.finish(*claimed, result=b"8")
    thread.join(30)
    assert results == [8]

    async def main() -> None:
        other = await case.job.aenqueue(1)
        claimed = case.claim()
        task = asyncio.create_task(other.aresult(timeout=60))
        asked = case.store.asked
        while case.store.asked < asked + 2:  # by the caller, and by the task that watches
            await asyncio.sleep(0)
        case.finish(*claimed, result=b"2")
        assert await task == 2
        while len(asyncio.all_tasks()) > 1:
            await asyncio.sleep(0)

    asyncio.run(main())


def test_events_are_the_history_until_the_end(case: Case) -> None:
    handle = case.job.enqueue(1)
    events = handle.events()
    assert next(events).event == "enqueued"
    [claimed] = case.claim()
    assert drive(case.store.report(claimed.id, claimed.token, lines=["a line"]))
    case.finish(claimed, result=b"2")
    rest: list[Attempt] = list(events)
    assert "a line" in [event.text for event in rest]
    assert len(set(rest)) == len(rest)

    async def main() -> list[Attempt]:
        return [event async for event in handle.aevents()]

    assert asyncio.run(main())[1:] == rest
