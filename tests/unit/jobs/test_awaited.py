"""Coroutines that are not awaited: a job that is lost is an ERROR in the log."""

import asyncio
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from clusterd.core.log import get_logger
from clusterd.jobs import Jobs


def add(a: int) -> int:
    return a + 1


class Log(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[tuple[str, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append((record.levelname, record.getMessage()))


@pytest.fixture
def log() -> Iterator[Log]:
    handler, logger = Log(), get_logger("clusterd.jobs")
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)


def test_a_coroutine_that_is_not_awaited_is_an_error_that_names_job_and_place(log: Log) -> None:
    jobs = Jobs()
    job: Any = jobs.job(name="add")(add)
    with jobs.testing() as test:
        job.aenqueue(1)
        job.options(delay=1).aenqueue(1)
        jobs.aenqueue_many([job.call(1), job.call(2)])  # type: ignore[unused-coroutine]
        assert test.jobs() == []
    why = "not enqueued, since the coroutine was not awaited: "
    said = [(level, text.partition(f", at {__file__}:")[0]) for level, text in log.said]
    assert said == [
        ("ERROR", f"{why}the job add"),
        ("ERROR", f"{why}the job add"),
        ("ERROR", f"{why}2 jobs"),
    ]


def test_a_coroutine_that_is_run_in_any_way_is_not(log: Log) -> None:
    jobs = Jobs()
    job = jobs.job(name="add")(add)

    async def main() -> int:
        async with jobs.testing() as test:
            await job.aenqueue(1)
            await asyncio.create_task(job.aenqueue(2))
            await asyncio.gather(job.aenqueue(3), job.aenqueue(4))
            await asyncio.wait_for(job.aenqueue(5), 5)
            async with asyncio.TaskGroup() as group:
                group.create_task(job.aenqueue(6))
            asyncio.run_coroutine_threadsafe(job.aenqueue(7), asyncio.get_running_loop())
            await asyncio.sleep(0)
            job.aenqueue(8).close()
            with pytest.raises(TypeError, match="argument 'a'"):
                await job.aenqueue("x")  # type: ignore[arg-type]
            cancelled = asyncio.create_task(job.aenqueue(9))
            cancelled.cancel()
            await asyncio.gather(cancelled, return_exceptions=True)
            return len(test.jobs())

    assert asyncio.run(main()) == 7
    assert log.said == []
