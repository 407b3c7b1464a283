"""Wait for jobs to finish: by the store's bell, so that nothing is asked while nothing happens."""

import asyncio
import contextlib
import select
import time
import weakref

from clusterd.jobs import waking
from clusterd.jobs.backend import Backend
from clusterd.jobs.records import Filter, JobInfo
from clusterd.jobs.states import FINISHED
from clusterd.jobs.store import Bell, Store

LOOK = 5.0  # s between looks into the store where a bell rings: a ring may be lost
LOOK_AT_ONE = 60.0  # s until each waiting coroutine looks whether its job was deleted
LOOK_WITHOUT_BELL = 0.25  # s; where the user has too many inotify instances (inotify(7): 128)


def descriptor(bell: Bell) -> int | None:
    """Return the bell's descriptor, or None where there is none left for it."""
    try:
        return bell.fileno()
    except OSError:
        return None


def wait(backend: Backend, id: str, deadline: float, until: float = float("inf")) -> JobInfo | None:
    """Return a job once it has finished, or as it is at `until`; None where it is not there.

    `deadline` and `until` are seconds of time.monotonic(). Raises TimeoutError at the deadline.
    """
    bell = backend.open().finished_bell()
    try:
        fd = descriptor(bell)
        poll = select.poll()
        if fd is not None:
            poll.register(fd, select.POLLIN)
        while True:
            bell.drain()
            info, now = backend.get(id), time.monotonic()
            if info is None or info.state in FINISHED or now >= until:
                return info
            if now >= deadline:
                raise TimeoutError(f"the job {id} is {info.state.label} yet")
            look = LOOK_WITHOUT_BELL if fd is None else LOOK
            poll.poll(1000 * min(look, deadline - now, until - now))
    finally:
        bell.close()


async def await_(
    backend: Backend, id: str, deadline: float, until: float = float("inf")
) -> JobInfo | None:
    """Return a job once it has finished, as `wait` does."""
    finished = _of_this_loop(await backend.aopen())
    while True:
        info, now = await backend.aget(id), time.monotonic()
        if info is None or info.state in FINISHED or now >= until:
            return info
        if now >= deadline:
            raise TimeoutError(f"the job {id} is {info.state.label} yet")
        await finished.wait(id, min(LOOK_AT_ONE, deadline - now, until - now))


class Finished:
    """The jobs that the coroutines of one event loop wait for.

    One descriptor and one query serve all of them: a user has 128 inotify instances, and a thousand
    coroutines may wait.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._waiting: dict[str, set[asyncio.Future[None]]] = {}
        self._rung = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def wait(self, id: str, seconds: float) -> None:
        """Return when the job may have finished, or after so many seconds."""
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        self._waiting.setdefault(id, set()).add(future)
        self._rung.set()  # it may have finished after its caller looked, before it stood here
        if self._task is None:
            self._task = loop.create_task(self._watch(), name="clusterd jobs: results")
        try:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(future, seconds)
        finally:
            futures = self._waiting[id]
            futures.discard(future)
            if not futures:
                del self._waiting[id]
            if not self._waiting:
                self._rung.set()  # nothing to wait for: the task ends

    async def _watch(self) -> None:
        loop, bell = asyncio.get_running_loop(), self._store.finished_bell()
        fd = descriptor(bell)
        if fd is not None:
            loop.add_reader(fd, self._rung.set)
        try:
            while self._waiting:
                self._rung.clear()
                bell.drain()
                await self._wake_finished()
                await waking.wait(self._rung, LOOK_WITHOUT_BELL if fd is None else LOOK)
        except Exception as error:
            for future in self._futures(*self._waiting):
                future.set_exception(error)
        finally:
            self._task = None
            if fd is not None:
                loop.remove_reader(fd)
            bell.close()

    async def _wake_finished(self) -> None:
        ids = tuple(self._waiting)
        for info in await self._store.find(Filter(ids=ids, states=FINISHED, limit=0)):
            for future in self._futures(info.id):
                future.set_result(None)

    def _futures(self, *ids: str) -> list[asyncio.Future[None]]:
        return [future for id in ids for future in self._waiting.get(id, ()) if not future.done()]


_of_loops: "weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, dict[int, Finished]]" = (
    weakref.WeakKeyDictionary()
)


def _of_this_loop(store: Store) -> Finished:
    """Return what this loop's coroutines wait with. One for each store: tests have several."""
    stores = _of_loops.setdefault(asyncio.get_running_loop(), {})
    found = stores.get(id(store))
    if found is None or found._store is not store:
        found = stores[id(store)] = Finished(store)
    return found
