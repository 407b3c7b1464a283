"""The API as users type it: mypy checks this file with the others, and it is imported by a test.

An expected error is a `type: ignore` with its code: mypy complains where it is not one.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, assert_type

from clusterd.jobs import (
    CurrentJob,
    Handle,
    Job,
    JobInfo,
    Jobs,
    Retry,
    current_job,
    exponential,
    job,
)

jobs = Jobs()


@dataclass
class Report:
    pages: int


@jobs.job
def add(a: int, b: int = 2) -> int:
    return a + b


@jobs.job(
    queue="mail",
    priority="high",
    attempts=5,
    backoff=exponential(2, max=600),
    retry_on=(OSError, Retry),
    timeout="1m",
    expires=timedelta(hours=1),
    keep=30,
    aliases=["send_welcome"],
)
async def welcome(email: str, *, urgent: bool = False) -> Report:
    assert_type(current_job(), CurrentJob)
    return Report(len(email) + urgent)


@job(queue="shared")
def shared(text: str) -> None: ...


@jobs.middleware
async def timed(current: CurrentJob, call_next: Callable[[], Awaitable[Any]]) -> Any:
    return await call_next()


@jobs.lifespan
async def life() -> AsyncIterator[None]:
    yield


@jobs.on_discarded
async def discarded(current: CurrentJob, error: BaseException) -> None: ...


def plain() -> None:
    assert_type(add(1), int)
    assert_type(add.enqueue(1, b=3), Handle[int])
    assert_type(add.enqueue(1).result(timeout=5), int)
    assert_type(add.enqueue(1).info(), JobInfo)
    assert_type(add.handle("id").result(), int)
    assert_type(add.options(delay="10m", priority=-5, unique="x").enqueue(1), Handle[int])
    assert_type(add.options(at=datetime(2030, 1, 1, tzinfo=UTC)).enqueue(1), Handle[int])
    assert_type(jobs.enqueue_many([add.call(1), add.options(delay=1).call(2)]), list[Handle[int]])
    assert_type(welcome("x"), Coroutine[Any, Any, Report]).close()
    assert_type(welcome.enqueue("x", urgent=True).result(), Report)
    assert_type(shared.enqueue("x"), Handle[None])

    add.enqueue("1")  # type: ignore[arg-type]
    add.enqueue()  # type: ignore[call-arg]
    add.enqueue(1, c=2)  # type: ignore[call-arg]
    add.enqueue(1, delay="10m")  # type: ignore[call-arg]
    add.options(delay="10m").enqueue("1")  # type: ignore[arg-type]
    add.options(dealy="10m")  # type: ignore[call-arg]
    add.options(delay=None)  # type: ignore[arg-type]
    welcome.enqueue("x", True)  # type: ignore[call-arg]
    jobs.job(queeu="mail")  # type: ignore[call-overload]


async def in_a_coroutine() -> None:
    handle = await welcome.aenqueue("x", urgent=True)
    assert_type(handle, Handle[Report])
    assert_type(await handle.aresult(timeout=60), Report)
    assert_type(await handle.acancel(), bool)
    assert_type(await welcome("x"), Report)
    async with jobs.testing() as test:
        assert_type(await test.adrain(), list[JobInfo])

    await welcome.aenqueue(1)  # type: ignore[arg-type]
    welcome.aenqueue("x")  # type: ignore[unused-coroutine]


def takes_any(job: Job[..., Any]) -> str:
    return job.name


NAMES = [takes_any(add), takes_any(welcome), takes_any(shared)]
