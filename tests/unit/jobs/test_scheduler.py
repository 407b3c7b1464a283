"""The scheduler on a store in memory: whose jobs are released, whose leases renewed, and when."""

import asyncio
import json
import logging
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from clusterd.jobs import journal, outage
from clusterd.jobs import scheduler as module
from clusterd.jobs.memory import MemoryStore
from clusterd.jobs.records import MOST_CRASHES, Claim, Filter, NewJob, Owner
from clusterd.jobs.scheduler import LOOK, PRUNE, Application, Scheduler
from clusterd.jobs.states import State
from clusterd.jobs.store import StoreUnavailable

HERE, ELSEWHERE = "boot-1", "boot-2"
SECOND = 1_000_000


class Rig:
    """A scheduler whose clocks and processes are ours."""

    def __init__(self, store: MemoryStore | None = None) -> None:
        self.now = 1000.0  # seconds, of both clocks
        self.store = store or MemoryStore(lambda: int(self.now * SECOND))
        self.alive: set[int] = set()
        self.scheduler = Scheduler(
            self.store,
            HERE,
            alive=lambda pid, _start: pid in self.alive,
            clock=lambda: self.now,
            wall=lambda: self.now,
        )
        self._made = 0

    async def enqueue(self, **more: Any) -> str:
        self._made += 1
        id = f"{self._made:032x}"
        await self.store.enqueue([NewJob(id, "work", b"[]", **more)])
        return id

    async def claim(self, pid: int, node: str = HERE, lease: float = 30.0) -> str:
        owner = Owner(node, pid, 7)
        (claimed,) = await self.store.claim(Claim(owner, ("work",), ("default",), 1, lease))
        return claimed.id

    async def state(self, id: str) -> State:
        info = await self.store.get(id)
        assert info is not None
        return info.state

    async def turn(self, after: float = 0.0) -> float:
        self.now += after
        return await self.scheduler.turn()


def run(main: Any) -> None:
    asyncio.run(main())


def test_jobs_of_a_process_that_ended_are_available_at_once() -> None:
    async def main() -> None:
        rig = Rig()
        ids = [await rig.enqueue() for _ in range(3)]
        rig.alive = {1, 2}
        for pid in (1, 2):
            await rig.claim(pid)
        await rig.claim(9, ELSEWHERE)
        await rig.turn()
        assert [await rig.state(id) for id in ids] == [State.RUNNING] * 3
        rig.alive = {2}
        rig.scheduler.hear({"kind": "exited", "pid": 1, "cause": "SIGKILL"})
        assert rig.scheduler.wake.is_set()
        await rig.turn()
        assert [await rig.state(id) for id in ids] == [
            State.AVAILABLE,
            State.RUNNING,
            State.RUNNING,  # of another node, whose processes we cannot see
        ]
        info = await rig.store.get(ids[0])
        assert info is not None
        assert info.history[-1].text == "SIGKILL"
        assert (info.crashes, info.attempts) == (1, 0)

    run(main)


def test_a_death_that_no_journal_told_of_is_seen_at_the_next_look() -> None:
    async def main() -> None:
        rig = Rig()
        id = await rig.enqueue()
        rig.alive = {1}
        await rig.claim(1)
        await rig.turn()
        rig.alive = set()
        await rig.turn(LOOK - 0.1)
        assert await rig.state(id) is State.RUNNING
        await rig.turn(0.1)
        assert await rig.state(id) is State.AVAILABLE

    run(main)


def test_leases_of_the_living_are_renewed_though_they_stand_still() -> None:
    """A worker whose loop is blocked cannot renew its own."""

    async def main() -> None:
        rig = Rig()
        rig.alive = {1}
        mine, theirs = await rig.enqueue(), await rig.enqueue()
        await rig.claim(1)
        await rig.claim(9, ELSEWHERE)
        for _ in range(10):
            await rig.turn(LOOK)
        assert await rig.state(mine) is State.RUNNING
        assert await rig.state(theirs) is State.AVAILABLE

    run(main)


def test_delayed_jobs_are_available_when_they_are_due_and_that_is_waited_for() -> None:
    async def main() -> None:
        rig = Rig()
        id = await rig.enqueue(run_at=int(1002.5 * SECOND))
        assert await rig.turn() == pytest.approx(2.5)
        await rig.turn(2.4)
        assert await rig.state(id) is State.SCHEDULED
        await rig.turn(0.1)
        assert await rig.state(id) is State.AVAILABLE
        assert await rig.turn() == pytest.approx(LOOK - 2.5)

    run(main)


def test_old_jobs_are_deleted() -> None:
    async def main() -> None:
        rig = Rig()
        id = await rig.enqueue(keep_failed=1.0)
        await rig.store.cancel(Filter(ids=(id,)))
        await rig.turn(PRUNE - 1)
        assert await rig.store.get(id) is not None
        await rig.turn(1)
        assert await rig.store.get(id) is None

    run(main)


def test_a_job_knows_why_its_worker_was_killed() -> None:
    """A worker that leaves is killed where it does not end: the reason is why it was to leave."""

    async def main() -> None:
        rig = Rig()
        id = await rig.enqueue()
        await rig.claim(1)
        rig.alive = set()
        for kind, more in (
            ("leaving", {"reason": "blocked for 8 s (hang_timeout)"}),
            ("killed", {"reason": "it is blocked"}),
            ("exited", {"cause": "SIGKILL"}),
        ):
            rig.scheduler.hear({"kind": kind, "pid": 1, **more})
        await rig.turn()
        info = await rig.store.get(id)
        assert info is not None
        assert info.history[-1].text == "SIGKILL: blocked for 8 s (hang_timeout)"

    run(main)


def test_a_job_that_ends_its_workers_is_discarded(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        rig = Rig()
        id = await rig.enqueue()
        for pid in range(MOST_CRASHES + 1):
            await rig.claim(pid)
            rig.scheduler.hear({"kind": "exited", "pid": pid, "cause": "SIGSEGV"})
            await rig.turn()
        assert await rig.state(id) is State.DISCARDED

    module.logger.addHandler(caplog.handler)
    try:
        run(main)
    finally:
        module.logger.removeHandler(caplog.handler)
    said = [record.getMessage() for record in caplog.records]
    assert said[0] == "job work lost its worker (SIGSEGV) and runs again"
    assert said[-1] == "job work lost its worker (SIGSEGV) and is discarded after 4 such ends"


class Away(MemoryStore):
    """A store that cannot be reached a few times."""

    tries = 3

    async def promote(self, limit: int = 1000) -> int:
        self.tries -= 1
        if self.tries > 0:
            raise StoreUnavailable("cannot be reached")
        return await super().promote(limit)


def test_a_store_that_is_away_is_tried_again_and_what_was_missed_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(outage, "FIRST_PAUSE", 0.0)

    async def main() -> None:
        store = Away()
        rig = Rig(store)
        id = await rig.enqueue()
        await rig.claim(1)  # which is gone
        task = asyncio.create_task(rig.scheduler.run())
        async with asyncio.timeout(30):
            while store.tries > 0:
                await asyncio.sleep(0)
        assert await rig.state(id) is State.AVAILABLE
        task.cancel()

    run(main)


def test_the_application_works_from_startup_to_shutdown() -> None:
    async def main() -> None:
        store = MemoryStore()
        inbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        sent: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        app = Application(store, "")
        life = asyncio.create_task(app({"type": "lifespan"}, inbox.get, sent.put))
        inbox.put_nowait({"type": "lifespan.startup"})
        assert await sent.get() == {"type": "lifespan.startup.complete"}
        soon = store._clock() + 1000
        await store.enqueue([NewJob("0" * 32, "work", b"[]", run_at=soon)])
        async with asyncio.timeout(30):  # the bell has rung, so it is not waited for LOOK
            while (info := await store.get("0" * 32)) and info.state is State.SCHEDULED:
                await asyncio.sleep(0)
        inbox.put_nowait({"type": "lifespan.shutdown"})
        assert await sent.get() == {"type": "lifespan.shutdown.complete"}
        await life

    run(main)


def test_the_journal_is_followed_and_found_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "AGAIN", 0.0)
    path = str(tmp_path / "control.sock")
    events = [{"kind": "exited", "pid": 5}, {"kind": "readied", "pid": 6}]

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert json.loads(await reader.readline())["command"] == "events"
        writer.write(b"".join(json.dumps(event).encode() + b"\n" for event in events))
        writer.close()
        await writer.wait_closed()

    async def main() -> None:
        server = await asyncio.start_unix_server(serve, path)
        heard: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        log = logging.getLogger("test")
        task = asyncio.create_task(journal.follow(path, heard.put_nowait, log))
        async with asyncio.timeout(30):
            for event in [{}, *events, {}, *events]:
                assert await heard.get() == event
        task.cancel()
        server.close()

    run(main)


def test_a_journal_of_another_user_is_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "stranger", lambda *_: 12345)
    path = str(tmp_path / "control.sock")

    async def main() -> None:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path)
            server.listen()
            with pytest.raises(OSError, match="another user's"):
                await journal._listen(path, lambda event: pytest.fail(str(event)))

    run(main)
    os.unlink(path)


class RungBell:
    """A bell that has rung."""

    def __init__(self) -> None:
        self._ours, self._theirs = socket.socketpair()
        self._theirs.send(b".")

    def fileno(self) -> int:
        return self._ours.fileno()

    def drain(self) -> None:
        assert self.fileno() >= 0, "it is closed"

    def close(self) -> None:
        self._ours.close()
        self._theirs.close()


def test_a_bell_that_has_just_rung_is_not_watched_again_after_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "COALESCE", 0.0)

    async def main() -> None:
        rig = Rig()
        failed: list[dict[str, Any]] = []
        monkeypatch.setattr(rig.store, "available_bell", RungBell)
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _loop, context: failed.append(context))
        with module._watching(rig.store, rig.scheduler):
            for _ in range(2):  # the bell is heard at the end of the first
                await asyncio.sleep(0)
        for _ in range(3):
            await asyncio.sleep(0)
        assert not failed
        assert not rig.scheduler.wake.is_set()

    run(main)
