"""What a WSGI worker has beside the rest: its pool, and the watch for requests that take long."""

import asyncio
import logging
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from clusterd.config.running import FleetSettings
from clusterd.config.serving import WsgiSettings
from clusterd.config.settings import Config
from clusterd.core.units import GIB
from clusterd.kernel import disk
from clusterd.worker.server import Server
from clusterd.worker.threads import Pool
from clusterd.worker.wsgi import Watch, equip
from tests.unit.app.wsgi_bench import WsgiBench, hello, run
from tests.unit.worker.fakes import get

WAIT = 10.0  # seconds; a limit, not a wait


@pytest.mark.parametrize(("threads", "size"), [(1, None), (2, 2), (8, 8)])
def test_one_thread_is_the_loops(threads: int, size: int | None) -> None:
    async def test() -> None:
        bench = WsgiBench(hello, "", wsgi=WsgiSettings(threads=threads))
        assert (bench.pool.size if bench.pool is not None else None) == size
        answer = await bench.talk(get())
        assert answer.endswith(b"hello")
        bench.close()

    run(test)


def test_it_is_called_in_the_loops_thread_or_another() -> None:
    async def test() -> None:
        seen = []

        def app(_environ: Any, start_response: Callable[..., Any]) -> list[bytes]:
            seen.append(threading.get_ident() == threading.main_thread().ident)
            start_response("200 OK", [])
            return []

        for mode in ("inline", "threads"):
            bench = WsgiBench(app, mode)
            await bench.talk(get())
            bench.close()
        assert seen == [True, False]

    run(test)


@pytest.mark.parametrize(("most", "sharers"), [(0, 3), (5, 5)])
def test_as_many_workers_share_the_disk_as_there_may_be(
    most: int, sharers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk, "is_in_memory", lambda _: False)
    monkeypatch.setattr(disk, "free_space", lambda _: 600 * GIB)

    async def test() -> None:
        config = Config(fleet=FleetSettings(workers=3, max_workers=most))
        loop = asyncio.get_running_loop()
        server = Server(hello, config, loop, memoryview(bytearray()), {})
        pool = equip(server, hello)
        assert server.spools is not None
        assert server.spools.is_on_disk(0)
        assert server.spools.limit == 600 * GIB // 4 // sharers
        assert pool is not None
        pool.close()

    run(test)


class Stuck:
    """A job that a thread cannot get on with."""

    def __init__(self) -> None:
        self.exchange = SimpleNamespace(scope={"method": "GET", "path": "/slow"})
        self.since = 0.0
        self.began, self.go, self.over = threading.Event(), threading.Event(), threading.Event()

    def work(self) -> None:
        self.began.set()
        self.go.wait(WAIT)
        self.over.set()


def test_a_request_that_takes_long_is_told_with_its_stack(
    caplog: pytest.LogCaptureFixture,
) -> None:
    now = [100.0]
    asked_to_leave = []
    pool = Pool(2, lambda: now[0])
    watch = Watch(pool, 60.0, lambda: asked_to_leave.append(now[0]))
    jobs = [Stuck(), Stuck()]
    for job in jobs:
        pool.submit(job)
        assert job.began.wait(WAIT)
    now[0] += 60.0
    watch.look()
    assert not caplog.records
    now[0] += 1.0
    watch.look()
    watch.look()
    assert asked_to_leave == [161.0]  # once for the worker, whatever else is stuck in it
    assert [record.levelno for record in caplog.records] == [logging.ERROR] * 2
    record: Any = caplog.records[0]
    assert record.fields == {"method": "GET", "path": "/slow"}
    assert "silent for 61.0 s" in record.getMessage()
    assert "self.go.wait" in record.block
    for job in jobs:
        job.go.set()
        assert job.over.wait(WAIT)
    pool.close()


def test_without_a_limit_nothing_takes_too_long() -> None:
    now = [100.0]
    pool = Pool(1, lambda: now[0])
    job = Stuck()
    pool.submit(job)
    assert job.began.wait(WAIT)
    now[0] += 1e6
    Watch(pool, 0.0, lambda: pytest.fail("it was asked to leave")).look()
    job.go.set()
    assert job.over.wait(WAIT)
    pool.close()


def test_nothing_of_a_request_is_left_in_an_idle_thread() -> None:
    """What an app keeps in its environ must not live until the next request."""

    async def test() -> None:
        gone = asyncio.Event()
        loop = asyncio.get_running_loop()

        class Precious:
            def __del__(self) -> None:
                loop.call_soon_threadsafe(gone.set)

        def app(environ: Any, start_response: Callable[..., Any]) -> list[bytes]:
            environ["mine"] = Precious()
            start_response("200 OK", [])
            return []

        bench = WsgiBench(app, "threads")
        await bench.talk(get())
        await asyncio.wait_for(gone.wait(), WAIT)
        bench.close()

    run(test)
