"""`Jobs` as the application of a job worker, and what importing it costs a web worker."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

import clusterd.jobs
from clusterd.jobs import Jobs, StoreError
from clusterd.jobs.backend import Backend, PlainCodec
from clusterd.jobs.memory import MemoryStore

ROOT = Path(__file__).parents[3]


class Server:
    """A server that speaks lifespan with the jobs."""

    def __init__(self, jobs: Jobs, extensions: Mapping[str, Any]) -> None:
        self.scope = {"type": "lifespan", "extensions": extensions}
        self.inbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.sent: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.task = asyncio.create_task(jobs(self.scope, self.inbox.get, self.sent.put))

    async def say(self, stage: str) -> dict[str, Any]:
        self.inbox.put_nowait({"type": f"lifespan.{stage}"})
        return await self.sent.get()


@pytest.fixture
def jobs() -> Jobs:
    made = Jobs()
    made.backend = Backend("", PlainCodec(), MemoryStore())
    return made


def test_jobs_run_from_startup_to_shutdown_within_the_lifespan(jobs: Jobs) -> None:
    seen: list[Any] = []

    @jobs.lifespan
    async def life() -> AsyncIterator[None]:
        seen.append("opened")
        yield
        seen.append("closed")

    async def note(n: int) -> int:
        seen.append(n)
        return n

    job = jobs.job(name="note")(note)

    async def main() -> None:
        before = await job.aenqueue(1)
        server = Server(jobs, {})
        assert (await server.say("startup"))["type"] == "lifespan.startup.complete"
        assert await before.aresult(timeout=30) == 1
        assert await (await job.aenqueue(2)).aresult(timeout=30) == 2
        assert (await server.say("shutdown"))["type"] == "lifespan.shutdown.complete"
        await server.task
        late = await job.aenqueue(3)
        assert (await late.ainfo()).state.label == "available"

    asyncio.run(main())
    assert seen == ["opened", 1, 2, "closed"]


def test_the_drain_notice_says_how_long_jobs_may_take(jobs: Jobs) -> None:
    begun, lefts = asyncio.Event(), [100.0]

    async def slow() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            lefts.append(-1)
            raise

    job = jobs.job(name="slow")(slow)

    async def main() -> None:
        handle = await job.aenqueue()
        server = Server(jobs, {"clusterd.drain": {"left": lambda: lefts[0]}})
        await server.say("startup")
        await begun.wait()
        lefts[0] = 0.5  # less than what is kept to hand jobs back
        assert (await server.say("shutdown"))["type"] == "lifespan.shutdown.complete"
        assert lefts[-1] == -1
        info = await handle.ainfo()
        assert (info.state.label, info.attempts) == ("available", 0)

    asyncio.run(main())


@pytest.mark.parametrize("broken", ["lifespan", "annotation", "store"])
def test_a_worker_that_cannot_start_says_why(jobs: Jobs, broken: str) -> None:
    """So that a canary with broken job code is turned back."""

    @jobs.lifespan
    async def life() -> AsyncIterator[None]:
        if broken == "lifespan":
            raise OSError("no database")
        yield

    def unsupported(x: complex) -> None: ...

    if broken == "annotation":
        jobs.job(name="unsupported")(unsupported)
    if broken == "store":

        def fail() -> None:
            raise StoreError("another application's")

        jobs.backend.aopen = fail  # type: ignore[method-assign, assignment]

    async def main() -> dict[str, Any]:
        server = Server(jobs, {})
        sent = await server.say("startup")
        await server.task
        return sent

    sent = asyncio.run(main())
    assert sent["type"] == "lifespan.startup.failed"
    says = {
        "lifespan": "OSError: no database",
        "annotation": "unsupported: argument 'x': the type complex is not supported",
        "store": "another application's",
    }
    assert sent["message"].strip().splitlines()[-1].count(says[broken])


def test_it_serves_no_requests(jobs: Jobs) -> None:
    async def main() -> None:
        with pytest.raises(RuntimeError, match="serves no http"):
            await jobs({"type": "http"}, None, None)  # type: ignore[arg-type]

    asyncio.run(main())


def test_two_lifespans_are_refused(jobs: Jobs) -> None:
    async def life() -> AsyncIterator[None]:
        yield

    jobs.lifespan(life)
    with pytest.raises(ValueError, match="have a lifespan already"):
        jobs.lifespan(life)


def modules_after(code: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", f"{code}; import sys; print(*sys.modules)"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.split())


def test_declaring_jobs_loads_neither_a_store_nor_a_loop() -> None:
    """A web worker that enqueues loads the store with the first enqueue, and never the rest."""
    code = "import clusterd.jobs as j; J = j.Jobs(); J.job(name='x')(lambda: None).call()"
    loaded = modules_after(code)
    unwanted = {"asyncio", "sqlite3", "socket", "ssl", "selectors", "click", "uvloop"}
    ours = {"worker", "sqlite", "testing", "waiting", "attempt", "places", "scheduler", "memory"}
    assert not loaded & unwanted
    assert not loaded & {f"clusterd.jobs.{name}" for name in ours}


def test_all_public_names_are_there() -> None:
    assert not set(clusterd.jobs.__all__) - vars(clusterd.jobs).keys()
