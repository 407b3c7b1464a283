"""A job that was enqueued: its result, its state, its end."""

import importlib
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any, Generic, TypeVar

from clusterd.jobs.backend import Backend, refuse_event_loop
from clusterd.jobs.errors import JobCancelled, JobExpired, JobFailed, JobNotFound
from clusterd.jobs.records import Attempt, JobInfo
from clusterd.jobs.signature import Signature
from clusterd.jobs.states import FINISHED, State

R = TypeVar("R")

LOOK = 1.0  # s between looks for new events: log lines and progress ring no bell
FAILURES: dict[State, tuple[type[JobFailed], str]] = {
    State.DISCARDED: (JobFailed, "failed"),
    State.CANCELLED: (JobCancelled, "was cancelled"),
    State.EXPIRED: (JobExpired, "was not begun in time"),
}


class Handle(Generic[R]):
    """A job in the store. `created` is False where an unfinished job has its unique key: it is that
    one then."""

    __slots__ = ("_backend", "_signature", "created", "id", "name")

    def __init__(
        self, id: str, name: str, backend: Backend, signature: Signature, created: bool = True
    ) -> None:
        self.id = id
        self.name = name
        self.created = created
        self._backend = backend
        self._signature = signature

    def __repr__(self) -> str:
        return f"<Handle {self.name} {self.id}>"

    # --- plain

    def info(self) -> JobInfo:
        """Return what the store knows of the job, with its history. Raises JobNotFound."""
        refuse_event_loop("info")
        return self._known(self._backend.get(self.id))

    def cancel(self) -> bool:
        """Cancel the job; a running one is asked to stop. False where it has ended already."""
        refuse_event_loop("cancel")
        return self._backend.cancel(self.id)

    def result(self, timeout: float | None = None) -> R:
        """Wait for the job's end and return its result.

        Raises JobFailed, which carries the traceback's text, where it was discarded, JobCancelled,
        JobExpired, JobNotFound; TimeoutError after `timeout` seconds.
        """
        refuse_event_loop("result")
        if self._backend.immediate:
            return self._result(self._finished_now(self._backend.get(self.id)))
        return self._result(_waiting().wait(self._backend, self.id, _deadline(timeout)))

    def events(self) -> Iterator[Attempt]:
        """Yield the job's history as it grows, until it ends: within a second each."""
        refuse_event_loop("events")
        seen: set[Attempt] = set()
        while True:
            until = time.monotonic() + (LOOK if seen else 0.0)
            if self._backend.immediate:
                info = self._known(self._backend.get(self.id))
            else:
                info = self._known(_waiting().wait(self._backend, self.id, float("inf"), until))
            yield from _unseen(info, seen)
            if info.state in FINISHED or self._backend.immediate:
                return

    # --- in coroutines

    async def ainfo(self) -> JobInfo:
        """Return what the store knows of the job, with its history. Raises JobNotFound."""
        return self._known(await self._backend.aget(self.id))

    async def acancel(self) -> bool:
        """Cancel the job; a running one is asked to stop. False where it has ended already."""
        return await self._backend.acancel(self.id)

    async def aresult(self, timeout: float | None = None) -> R:
        """Wait for the job's end and return its result. Raises what `result` raises."""
        if self._backend.immediate:
            return self._result(self._finished_now(await self._backend.aget(self.id)))
        info = await _waiting().await_(self._backend, self.id, _deadline(timeout))
        return self._result(info)

    async def aevents(self) -> AsyncIterator[Attempt]:
        """Yield the job's history as it grows, until it ends: within a second each."""
        seen: set[Attempt] = set()
        while True:
            until = time.monotonic() + (LOOK if seen else 0.0)
            if self._backend.immediate:
                info = self._known(await self._backend.aget(self.id))
            else:
                found = await _waiting().await_(self._backend, self.id, float("inf"), until)
                info = self._known(found)
            for event in _unseen(info, seen):
                yield event
            if info.state in FINISHED or self._backend.immediate:
                return

    # --- both

    def _known(self, info: JobInfo | None) -> JobInfo:
        if info is None:
            raise JobNotFound(f"the store does not hold the job {self.id} ({self.name})")
        return info

    def _finished_now(self, info: JobInfo | None) -> JobInfo:
        info = self._known(info)
        if info.state not in FINISHED:
            raise RuntimeError(
                f"the job {self.id} ({self.name}) is {info.state.label}: in tests, call drain() "
                "before its result is asked for, and move the clock where it is due later"
            )
        return info

    def _result(self, info: JobInfo | None) -> R:
        info = self._known(info)
        if info.state is State.COMPLETED:
            data = self._backend.codec.decode(info.result) if info.result else b""
            result: R = self._signature.decode_result(data)
            return result
        error, how = FAILURES[info.state]
        last = info.error.strip().rpartition("\n")[2]
        reason = f": {last}" if last else ""
        raise error(f"the job {self.id} ({self.name}) {how}{reason}", info.error)


def _waiting() -> Any:
    """Return the module that waits. Imported when a result is awaited: it imports asyncio."""
    return importlib.import_module("clusterd.jobs.waiting")


def _deadline(timeout: float | None) -> float:
    return float("inf") if timeout is None else time.monotonic() + timeout


def _unseen(info: JobInfo, seen: set[Attempt]) -> list[Attempt]:
    """Return the events that are new, and note them. By value: old log lines are dropped."""
    new = [event for event in info.history if event not in seen]
    seen.update(new)
    return new
