"""The scheduler: keeps the store in order for all job workers of a node. One process per cluster.

It releases the jobs of workers that ended, renews the leases of those that live, makes jobs
available when they are due, takes back jobs whose lease ran out, and deletes old ones. All of it
can be done by several schedulers at once. If it dies it is replaced, and nothing is lost.
"""

import asyncio
import contextlib
import functools
import os
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from clusterd.config.admin import CONTROL
from clusterd.config.jobs import STORE
from clusterd.core.errors import ClusterdError
from clusterd.core.events import Kind
from clusterd.core.log import fields, get_logger
from clusterd.jobs.journal import follow
from clusterd.jobs.node import node
from clusterd.jobs.outage import Outage
from clusterd.jobs.records import LEASE, Released
from clusterd.jobs.store import Store, StoreError, StoreUnavailable
from clusterd.jobs.stores import open_store
from clusterd.jobs.waking import wait
from clusterd.kernel.process import is_running

logger = get_logger("clusterd.jobs")

# Seconds between two looks at leases and owners: so long may a death go unseen of which the
# journal did not tell.
LOOK = 5.0
PRUNE = 60.0  # seconds between two looks for jobs whose time to be kept is over
BATCH = 1000  # jobs in one transaction, so that no other waits long
# Seconds between a bell and our look at what is due. A bell rings at every enqueue: without a
# pause the scheduler would take as much CPU time as a worker.
COALESCE = 0.05
MOST_CAUSES = 1000  # ends of processes that are remembered until their jobs are released


def owner_process(owner: str) -> tuple[int, int]:
    """Return the pid and the start of an owner's process, from `node:pid:start`."""
    _, pid, start = owner.rsplit(":", 2)
    return int(pid), int(start)


class Scheduler:
    """All that one scheduler does. `alive` tells whether a process of this node runs."""

    def __init__(
        self,
        store: Store,
        here: str,
        *,
        alive: Callable[[int, int], bool] = is_running,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.store = store
        self.here = here
        self._alive = alive
        self._clock = clock
        self._wall = wall
        self._causes: dict[int, str] = {}  # pid → how it ended, as the journal told it
        self._reasons: dict[int, str] = {}  # pid → why it is to end, as the journal told it
        self._has_news = True  # a process ended, or the journal may have been missed
        self._look_at = 0.0
        self._prune_at = clock() + PRUNE
        self._outage = Outage()
        self.wake = asyncio.Event()

    def hear(self, event: dict[str, Any]) -> None:
        """Take an event of the master's journal; an empty one means that some were missed."""
        kind = event.get("kind")
        if kind in (Kind.LEAVING, Kind.KILLED):
            if len(self._reasons) >= MOST_CAUSES:
                self._reasons.clear()
            # The first counts: a worker is killed since it does not leave, for some reason.
            self._reasons.setdefault(int(event["pid"]), str(event.get("reason", "")))
        if event and kind != Kind.EXITED:
            return
        if event:
            if len(self._causes) >= MOST_CAUSES:
                self._causes.clear()
            pid, cause = int(event["pid"]), str(event.get("cause", "its process ended"))
            reason = self._reasons.pop(pid, "")
            self._causes[pid] = f"{cause}: {reason}" if reason else cause
        self._has_news = True
        self.wake.set()

    async def run(self) -> None:
        """Work for ever. The store may be away for a while."""
        while True:
            self.wake.clear()
            try:
                seconds = await self.turn()
            except (StoreUnavailable, StoreError) as error:
                self._has_news = True
                self._outage.tell(error)
                await self._outage.wait()
                continue
            self._outage.end()
            await wait(self.wake, seconds)

    async def turn(self) -> float:
        """Do what is due; return the seconds until there is more. Raises StoreUnavailable."""
        now = self._clock()
        if self._has_news:
            self._has_news = False
            await self.release()
        if now >= self._look_at:
            self._look_at = now + LOOK
            await self.look()
        if now >= self._prune_at:
            pruned = await self.store.prune(BATCH)
            self._prune_at = now if pruned >= BATCH else now + PRUNE
        promoted = await self.store.promote(BATCH)
        if promoted >= BATCH:
            return 0.0
        due = await self.store.next_due()
        left = [self._look_at - now, self._prune_at - now]
        if due:
            left.append(due / 1e6 - self._wall())
        return max(0.0, min(left))

    async def release(self) -> list[str]:
        """Release the jobs of processes of this node that are gone; return the other owners."""
        living = []
        for owner in await self.store.owners(self.here):
            pid, start = owner_process(owner)
            if self._alive(pid, start):
                living.append(owner)
                continue
            cause = self._causes.get(pid, "its process ended")
            self._tell(await self.store.release([owner], cause), cause)
        self._causes.clear()
        return living

    async def look(self) -> None:
        """Renew the leases of the living, and take back those that ran out elsewhere."""
        if living := await self.release():
            await self.store.renew(living, LEASE)
        self._tell(await self.store.reap(), "its lease ran out")

    def _tell(self, released: list[Released], cause: str) -> None:
        for job in released:
            logger.warning(
                "job %s lost its worker (%s) and %s",
                job.name,
                cause,
                f"is discarded after {job.crashes} such ends" if job.poisoned else "runs again",
                extra=fields(job=job.id, owner=job.owner, crashes=job.crashes),
            )


class Application:
    """The scheduler as an ASGI application, which clusterd runs in a process of its own."""

    def __init__(self, store: Store, control: str) -> None:
        self.store = store
        self.control = control

    async def __call__(
        self,
        scope: dict[str, Any],
        receive: Callable[[], Awaitable[dict[str, Any]]],
        send: Callable[[dict[str, Any]], Awaitable[None]],
    ) -> None:
        if scope["type"] != "lifespan":
            raise ValueError(f"the scheduler serves no {scope['type']}")
        await receive()
        try:
            await self.store.open()
            for concern in await self.store.concerns():
                logger.warning(concern)
        except ClusterdError as error:
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        scheduler = Scheduler(self.store, node())
        tasks = [asyncio.create_task(scheduler.run())]
        if self.control:
            tasks.append(asyncio.create_task(follow(self.control, scheduler.hear, logger)))
        leave = scope.get("extensions", {}).get("clusterd.worker", {}).get("leave")
        for task in tasks:
            task.add_done_callback(functools.partial(_on_end, leave))
        with _watching(self.store, scheduler):
            await send({"type": "lifespan.startup.complete"})
            await receive()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.store.close()
        await send({"type": "lifespan.shutdown.complete"})


def _on_end(leave: Callable[[str], None] | None, task: "asyncio.Task[None]") -> None:
    """Have the scheduler replaced where a task of its own failed."""
    if not task.cancelled() and (error := task.exception()) is not None:
        logger.error("the scheduler failed: this is a bug in clusterd", exc_info=error)
        if leave is not None:
            leave("a bug in the scheduler")


@contextlib.contextmanager
def _watching(store: Store, scheduler: Scheduler) -> Iterator[None]:
    """Have the scheduler look soon after jobs were stored: one may be due earlier than others."""
    loop = asyncio.get_running_loop()
    bell = store.available_bell()
    try:
        fd = bell.fileno()
    except OSError as error:
        logger.warning("delayed jobs may start late: %s", error.strerror or error)
        yield
        return

    pause: asyncio.TimerHandle | None = None

    def rung() -> None:
        nonlocal pause
        loop.remove_reader(fd)
        pause = loop.call_later(COALESCE, look)

    def look() -> None:
        bell.drain()
        loop.add_reader(fd, rung)
        scheduler.wake.set()

    loop.add_reader(fd, rung)
    try:
        yield
    finally:
        if pause is not None:  # or it would watch a descriptor that is closed, or another's
            pause.cancel()
        loop.remove_reader(fd)
        bell.close()


def make() -> Application:
    """Return the application, as the settings want it."""
    return Application(open_store(os.environ[STORE]), os.environ.get(CONTROL, ""))
