"""Job stores of every engine behind one desk: a clock that tests move, and calls without a loop."""

import asyncio
import atexit
import contextlib
import functools
import tempfile
import uuid
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from clusterd.jobs.memory import MemoryStore
from clusterd.jobs.records import Claim, Claimed, Filter, JobInfo, NewJob, Outcome, Owner
from clusterd.jobs.redis_store import RedisStore
from clusterd.jobs.sqlite import SqliteStore
from clusterd.jobs.states import Event, State
from clusterd.jobs.store import Store
from tests.support import stores

T = TypeVar("T")
SECOND = 1_000_000  # in microseconds
LEASE = 30.0
OWNER = Owner("node", 10, 100, "jobs", 2, 7)
OTHER = Owner("node", 11, 100, "jobs", 3, 7)
AWAY = Owner("elsewhere", 10, 100)


@dataclass(slots=True)
class Clock:
    """A clock that stands still until it is moved."""

    now: int = 1_700_000_000 * SECOND

    def __call__(self) -> int:
        return self.now

    def move(self, seconds: float) -> None:
        self.now += int(seconds * SECOND)


@functools.cache
def redis_server() -> str:
    """Return the URL of a Redis server of this test process, which ends with it."""
    place, stack = tempfile.TemporaryDirectory(), contextlib.ExitStack()
    stack.enter_context(place)
    url = stack.enter_context(stores.redis(Path(place.name)))
    atexit.register(stack.close)
    return url


def redis_store(place: Path, clock: Clock) -> Store:
    server = redis_server()
    return RedisStore(server, server, uuid.uuid4().hex, clock=clock)


STORES: dict[str, Callable[[Path, Clock], Store]] = {
    "memory": lambda _, clock: MemoryStore(clock),
    "sqlite": lambda place, clock: SqliteStore(str(place / "jobs.sqlite3"), clock=clock),
    "redis": redis_store,
}


@dataclass(slots=True)
class Desk:
    """A store, and short ways to ask it. Each call runs in an event loop of its own."""

    store: Store
    clock: Clock
    runner: asyncio.Runner = field(default_factory=asyncio.Runner)
    _last: int = 0

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(coroutine)

    def new(self, name: str = "mail", **options: Any) -> NewJob:
        """Return a job with an id larger than all before."""
        self._last += 1
        options = {"id": f"{self._last:032x}", "payload": b'{"to": 1}', **options}
        return NewJob(name=name, **options)

    def add(self, name: str = "mail", **options: Any) -> str:
        """Store a job and return its id."""
        (stored,) = self.run(self.store.enqueue([self.new(name, **options)]))
        return stored.id

    def claim(
        self,
        limit: int = 10,
        owner: Owner = OWNER,
        names: Sequence[str] = ("mail", "video"),
        queues: Sequence[str] = ("default",),
    ) -> list[Claimed]:
        return self.run(self.store.claim(self.claims(limit, owner, names, queues)))

    def claims(
        self,
        limit: int = 10,
        owner: Owner = OWNER,
        names: Sequence[str] = ("mail", "video"),
        queues: Sequence[str] = ("default",),
    ) -> Claim:
        return Claim(owner, tuple(names), tuple(queues), limit, LEASE)

    def one(self, owner: Owner = OWNER) -> Claimed:
        """Claim the next job."""
        (job,) = self.claim(1, owner)
        return job

    def finish(self, job: Claimed, event: Event, **more: Any) -> bool:
        (taken,), claimed = self.run(self.store.finish([Outcome(job.id, job.token, event, **more)]))
        assert claimed == []
        return taken

    def info(self, id: str) -> JobInfo:
        info = self.run(self.store.get(id))
        assert info is not None
        return info

    def state(self, id: str) -> State:
        return self.info(id).state

    def find(self, **wanted: Any) -> list[str]:
        return [info.id for info in self.run(self.store.find(Filter(**wanted)))]

    def counts(self, queue: str = "default") -> dict[State, int]:
        for each in self.run(self.store.stats()):
            if each.queue == queue:
                return dict(each.counts)
        return {}

    def promote(self) -> int:
        return self.run(self.store.promote())
