"""Jobs in the tests of an application: in memory, without workers, with a clock that is moved.

An event loop runs the coroutines: the test's own, or one in a thread of ours where the test is a
plain function. Plain functions run in the thread that calls `drain()`, so that they see the test's
database transaction; no event loop runs there, as in a worker.
"""

import asyncio
import concurrent.futures
import contextvars
import queue
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any

from clusterd.jobs import times
from clusterd.jobs.api import Jobs
from clusterd.jobs.attempt import RunPlain, run_attempt, tell_discarded
from clusterd.jobs.backend import Backend, Codec, refuse_event_loop
from clusterd.jobs.current import CurrentJob
from clusterd.jobs.drive import drive
from clusterd.jobs.job import Job
from clusterd.jobs.memory import MemoryStore
from clusterd.jobs.options import EPOCH, Duration, read_seconds
from clusterd.jobs.records import Claim, Claimed, Filter, JobInfo, NewJob, Owner, Stored
from clusterd.jobs.states import Event

OWNER = Owner("test", 1, 1)
LEASE = 3600.0  # s; nothing renews it, and nothing reaps it
Work = tuple[concurrent.futures.Future[Any], contextvars.Context, Callable[[], Any]]


class Testing:
    """What `Jobs.testing()` returns: use it with `with`, or with `async with` in a coroutine."""

    __test__ = False  # pytest would take it for a class of tests

    def __init__(self, jobs: Jobs, inline: bool, now: datetime | None) -> None:
        self._jobs = jobs
        self._now = times.now() if now is None else (now - EPOCH) // timedelta(microseconds=1)
        self._store = MemoryStore(lambda: self._now)
        self._backend = TestingBackend(self, jobs.backend.codec, self._store, inline)
        self._usual = jobs.backend
        self._stack = AsyncExitStack()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    # --- the block

    def __enter__(self) -> "Testing":
        refuse_event_loop("jobs.testing", "use `async with jobs.testing()`")
        loop = self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=loop.run_forever, daemon=True, name="jobs.testing")
        self._thread.start()
        try:
            asyncio.run_coroutine_threadsafe(self._enter(), loop).result()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._loop is not None
        try:
            asyncio.run_coroutine_threadsafe(self._leave(), self._loop).result()
        finally:
            self._stop()

    async def __aenter__(self) -> "Testing":
        self._loop = asyncio.get_running_loop()
        await self._enter()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._leave()

    async def _enter(self) -> None:
        await self._stack.enter_async_context(self._jobs.entered())
        self._jobs.backend = self._backend

    async def _leave(self) -> None:
        self._jobs.backend = self._usual
        await self._stack.aclose()

    def _stop(self) -> None:
        assert self._loop is not None
        assert self._thread is not None
        asyncio.run_coroutine_threadsafe(_end_tasks(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    # --- the clock

    @property
    def now(self) -> datetime:
        """Return the time, which stands still but for `move`."""
        return EPOCH + timedelta(microseconds=self._now)

    @property
    def microseconds(self) -> int:
        """Return the time as stores have it."""
        return self._now

    def move(self, duration: Duration) -> None:
        """Let so much time pass. What is due then runs at the next drain."""
        self._now += round(read_seconds("duration", duration) * 1e6)

    # --- the jobs

    def jobs(self, job: Job[Any, Any] | None = None) -> list[JobInfo]:
        """Return all jobs that were enqueued, or those of one function, oldest first."""
        name = "" if job is None else job.name
        found = drive(self._store.find(Filter(name=name, limit=0)))
        return sorted(found, key=lambda info: info.id)

    def arguments(self, info: JobInfo) -> dict[str, Any]:
        """Return the arguments that a job was enqueued with, by their names."""
        payload = self._backend.codec.decode(info.payload)
        return self._jobs.registry[info.name].signature.arguments(payload)

    # --- running them

    def drain(self) -> list[JobInfo]:
        """Run all jobs that are due, also those that they enqueue, until none is. Return each as it
        was after its attempt. A job that is to be tried again is due later: move the clock."""
        refuse_event_loop("drain")
        assert self._loop is not None, "drain() is for use in `with jobs.testing() as test:`"
        works: queue.SimpleQueue[Work | None] = queue.SimpleQueue()

        async def run_here(function: Callable[[], Any]) -> Any:
            done: concurrent.futures.Future[Any] = concurrent.futures.Future()
            works.put((done, contextvars.copy_context(), function))
            return await asyncio.wrap_future(done)

        drained = asyncio.run_coroutine_threadsafe(self._run_due(run_here), self._loop)
        drained.add_done_callback(lambda _: works.put(None))
        while (work := works.get()) is not None:
            done, context, function = work
            try:
                value = context.run(function)
            except KeyboardInterrupt:
                raise  # the job is cancelled at the end of the block
            except BaseException as error:
                done.set_exception(error)
            else:
                done.set_result(value)
        return drained.result()

    async def adrain(self) -> list[JobInfo]:
        """Run all jobs that are due, as `drain` does; plain functions run in threads."""
        assert self._loop is not None, "adrain() is for use in `async with jobs.testing() as test:`"
        if asyncio.get_running_loop() is self._loop:
            return await self._run_due(asyncio.to_thread)
        due = self._run_due(asyncio.to_thread)
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(due, self._loop))

    async def _run_due(self, run_plain: RunPlain) -> list[JobInfo]:
        done: list[JobInfo] = []
        names = tuple(self._jobs.registry)
        while True:
            await self._store.promote()
            queues = tuple(one.queue for one in await self._store.stats())
            claimed = await self._store.claim(Claim(OWNER, names, queues, 1, LEASE))
            if not claimed:
                return done
            await self._run(claimed[0], run_plain)
            info = await self._store.get(claimed[0].id)
            if info is not None:
                done.append(info)

    async def _run(self, claimed: Claimed, run_plain: RunPlain) -> None:
        job = self._jobs.registry[claimed.name]
        current = CurrentJob(claimed, time.monotonic() + claimed.timeout)
        ended = await run_attempt(self._jobs, job, claimed, current, run_plain)
        if (report := current.take_report()) is not None:
            await self._store.report(
                claimed.id,
                claimed.token,
                progress=report.progress,
                data=report.data,
                lines=report.lines,
            )
        await self._store.finish([ended.outcome])
        if ended.outcome.event is Event.EXHAUSTED and ended.error is not None:
            await tell_discarded(self._jobs, current, ended.error)


async def _end_tasks() -> None:
    """Cancel what jobs have left running, as `asyncio.run` does at its end."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    loop = asyncio.get_running_loop()
    await loop.shutdown_asyncgens()
    await loop.shutdown_default_executor()


class TestingBackend(Backend):
    """The store of a test. `inline`: jobs run where they are enqueued."""

    __test__ = False
    immediate = True

    def __init__(self, testing: Testing, codec: Codec, store: MemoryStore, inline: bool) -> None:
        super().__init__("", codec, store)
        self._testing = testing
        self._inline = inline

    def now(self) -> int:
        return self._testing.microseconds

    def enqueue(self, jobs: Sequence[NewJob]) -> list[Stored]:
        stored = super().enqueue(jobs)
        if self._inline:
            self._testing.drain()
        return stored

    async def aenqueue(self, jobs: Sequence[NewJob]) -> list[Stored]:
        stored = await super().aenqueue(jobs)
        if self._inline:
            await self._testing.adrain()
        return stored
