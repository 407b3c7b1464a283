"""`Jobs.testing()`: what tests of applications use."""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from clusterd.jobs import JobFailed, Jobs, Retry, State, current_job

START = datetime(2030, 1, 1, tzinfo=UTC)


class Shop:
    """An application's jobs, and what they did."""

    def __init__(self) -> None:
        self.jobs = Jobs()
        self.done: list[Any] = []
        self.plain = self.jobs.job(name="plain")(self._plain())
        self.slow = self.jobs.job(name="slow")(self._slow())
        self.chain = self.jobs.job(name="chain")(self._chain())
        self.achain = self.jobs.job(name="achain")(self._achain())
        self.failing = self.jobs.job(name="failing", backoff="10m")(self._failing())

    def _plain(self) -> Callable[[str], str]:
        def plain(text: str) -> str:
            self.done.append((text, threading.get_ident()))
            return text.upper()

        return plain

    def _slow(self) -> Any:
        async def slow(n: int) -> int:
            await asyncio.sleep(0)
            self.done.append(n)
            return n

        return slow

    def _chain(self) -> Callable[[int], None]:
        def chain(n: int) -> None:
            self.done.append(n)
            if n:
                self.chain.enqueue(n - 1)  # no event loop runs here

        return chain

    def _achain(self) -> Any:
        async def achain(n: int) -> None:
            self.done.append(n)
            if n:
                await self.achain.aenqueue(n - 1)

        return achain

    def _failing(self) -> Callable[[], None]:
        def failing() -> None:
            job = current_job()
            job.log(f"attempt {job.attempt}")
            raise OSError("away")

        return failing


@pytest.fixture
def shop() -> Shop:
    return Shop()


def test_jobs_run_at_the_drain_in_its_thread(shop: Shop) -> None:
    usual = shop.jobs.backend
    with shop.jobs.testing() as test:
        handle = shop.plain.enqueue("x")
        other = shop.slow.enqueue(5)
        assert shop.done == []
        with pytest.raises(RuntimeError, match="is available: in tests, call drain"):
            handle.result()
        assert [info.state for info in test.drain()] == [State.COMPLETED] * 2
        assert shop.done == [("x", threading.get_ident()), 5]
        assert (handle.result(), other.result()) == ("X", 5)
        assert test.drain() == []
    assert shop.jobs.backend is usual


def test_in_a_coroutine_they_run_at_adrain(shop: Shop) -> None:
    async def main() -> None:
        async with shop.jobs.testing() as test:
            plain = await shop.plain.aenqueue("x")
            slow = await shop.slow.aenqueue(5)
            with pytest.raises(RuntimeError, match="await adrain"):
                test.drain()
            await test.adrain()
            assert (await plain.aresult(), await slow.aresult()) == ("X", 5)
            assert shop.done[0][1] != threading.get_ident()  # in a thread, as in a worker
            with pytest.raises(RuntimeError, match="async with"):
                shop.jobs.testing().__enter__()

    asyncio.run(main())


@pytest.mark.parametrize("inline", [False, True])
def test_jobs_that_jobs_enqueue_run_as_well(shop: Shop, inline: bool) -> None:
    with shop.jobs.testing(inline=inline) as test:
        shop.chain.enqueue(2)
        test.drain()
        shop.achain.enqueue(2)
        test.drain()
        assert shop.done == [2, 1, 0, 2, 1, 0]

    async def main() -> None:
        async with shop.jobs.testing(inline=inline) as test:
            await shop.chain.aenqueue(2)
            await test.adrain()
            await shop.achain.aenqueue(2)
            await test.adrain()

    asyncio.run(main())
    assert shop.done == [2, 1, 0] * 4


def test_inline_they_run_where_they_are_enqueued(shop: Shop) -> None:
    with shop.jobs.testing(inline=True):
        assert shop.plain.enqueue("x").result() == "X"
        assert shop.slow.enqueue(1).result() == 1
        assert shop.done == [("x", threading.get_ident()), 1]
        [first, second] = shop.jobs.enqueue_many([shop.slow.call(2), shop.slow.call(3)])
        assert (first.result(), second.result()) == (2, 3)

    async def main() -> None:
        async with shop.jobs.testing(inline=True):
            assert await (await shop.slow.aenqueue(4)).aresult() == 4

    asyncio.run(main())


def test_time_passes_only_when_it_is_moved(shop: Shop) -> None:
    with shop.jobs.testing(now=START) as test:
        assert test.now == START
        handle = shop.plain.options(delay="10m").enqueue("x")
        test.move("9m")
        assert test.drain() == []
        test.move(60)
        assert [info.id for info in test.drain()] == [handle.id]
        assert test.now == datetime(2030, 1, 1, 0, 10, tzinfo=UTC)
        shop.plain.options(expires="1m").enqueue("late")
        test.move("2m")
        assert test.drain() == []
        assert [info.state for info in test.jobs()] == [State.COMPLETED, State.EXPIRED]


def test_a_failing_job_is_tried_again_after_its_backoff_and_discarded(shop: Shop) -> None:
    discarded: list[Any] = []
    shop.jobs.on_discarded(lambda job, error: discarded.append((job.name, str(error))))
    with shop.jobs.testing() as test:
        handle = shop.failing.enqueue()
        for state in (State.SCHEDULED, State.SCHEDULED, State.DISCARDED):
            [info] = test.drain()
            assert info.state is state
            test.move("11m")
        assert discarded == [("failing", "away")]
        with pytest.raises(JobFailed, match="OSError: away") as caught:
            handle.result()
        assert 'raise OSError("away")' in caught.value.traceback
        lines = [event.text for event in handle.events() if event.event == "log"]
        assert lines == ["attempt 1", "attempt 2", "attempt 3"]


def test_what_was_enqueued_can_be_asked_for(shop: Shop) -> None:
    with shop.jobs.testing() as test:
        shop.plain.enqueue("x")
        shop.slow.enqueue(1)
        shop.plain.enqueue("y")
        found = [test.arguments(info) for info in test.jobs(shop.plain)]
        assert found == [{"text": "x"}, {"text": "y"}]
        assert len(test.jobs()) == 3
    with shop.jobs.testing() as test:
        assert test.jobs() == []


def test_the_lifespan_is_around_the_jobs_in_the_same_loop(shop: Shop) -> None:
    seen: list[Any] = []

    @shop.jobs.lifespan
    async def life() -> AsyncIterator[None]:
        seen.append(asyncio.get_running_loop())
        yield
        seen.append("closed")

    async def loop_of() -> None:
        seen.append(asyncio.get_running_loop())

    job = shop.jobs.job(name="loop_of")(loop_of)
    with shop.jobs.testing() as test:
        job.enqueue()
        test.drain()
    assert seen[0] is seen[1]
    assert seen[2] == "closed"
    assert not [t for t in threading.enumerate() if t.name == "jobs.testing"]


def test_a_lifespan_that_fails_ends_the_test(shop: Shop) -> None:
    @contextlib.asynccontextmanager
    async def life() -> AsyncIterator[None]:
        raise OSError("no database")
        yield

    shop.jobs.lifespan(life)
    usual = shop.jobs.backend
    with pytest.raises(OSError, match="no database"), shop.jobs.testing():
        pass
    assert shop.jobs.backend is usual
    assert not [t for t in threading.enumerate() if t.name == "jobs.testing"]


def test_an_interrupt_ends_a_drain(shop: Shop) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    job = shop.jobs.job(name="interrupted")(interrupted)
    with shop.jobs.testing() as test:
        job.enqueue()
        with pytest.raises(KeyboardInterrupt):
            test.drain()
        shop.plain.enqueue("x")
        assert [info.name for info in test.drain()] == ["plain"]


def test_a_plain_job_may_run_a_loop_of_its_own_and_try_again(shop: Shop) -> None:
    attempts: Iterator[int] = iter([1, 2])

    def once_more() -> int:
        async def inner() -> int:
            return next(attempts)

        n = asyncio.run(inner())
        if n == 1:
            raise Retry(delay=0)
        return n

    job = shop.jobs.job(name="once_more")(once_more)
    with shop.jobs.testing() as test:
        handle = job.enqueue()
        assert [info.state for info in test.drain()] == [State.SCHEDULED, State.COMPLETED]
        assert handle.result() == 2
