"""The job store in an SQLite file: embedded, for all processes of one machine."""

import os
from collections.abc import Callable, Sequence
from typing import TypeVar
from urllib.parse import parse_qsl

from clusterd.jobs import sqlite_operators as operators
from clusterd.jobs import sqlite_scheduler as scheduler
from clusterd.jobs import sqlite_workers as workers
from clusterd.jobs.bell import FileBell
from clusterd.jobs.records import (
    Claim,
    Claimed,
    Filter,
    JobInfo,
    NewJob,
    Outcome,
    QueueStats,
    Released,
    Stored,
)
from clusterd.jobs.sqlite_database import LOCKED_FOR, Connection, Database
from clusterd.jobs.sqlite_schema import prepare
from clusterd.jobs.sqlite_transaction import Transaction
from clusterd.jobs.store import StoreError
from clusterd.jobs.times import MICROSECONDS, now

SYNCHRONOUS = ("normal", "full")  # full: survives a power loss, and is some five times slower
_OPTIONS = ("synchronous", "application")

T = TypeVar("T")


def create(url: str) -> "SqliteStore":
    """Return the store of `sqlite:/path[?synchronous=full][&application=NAME]`.

    Raises StoreError.
    """
    place, _, query = url.removeprefix("sqlite:").partition("?")
    options = dict(parse_qsl(query, keep_blank_values=True))
    for name in options:
        if name not in _OPTIONS:
            known = ", ".join(_OPTIONS)
            raise StoreError(f"{url}: not a valid option: {name}, expected one of {known}")
    synchronous = options.get("synchronous", "normal").lower()
    if synchronous not in SYNCHRONOUS:
        raise StoreError(f"{url}: not a valid value of synchronous, expected normal or full")
    if not place.strip("/") or place == ":memory:" or place.endswith("/"):
        raise StoreError(f"{url}: expected the path of a file, as in sqlite:/path/jobs.sqlite3")
    if place.startswith("//"):
        place = "/" + place.lstrip("/")  # as other libraries write it: sqlite:///path
    return SqliteStore(os.path.abspath(place), synchronous, options.get("application", ""))


class SqliteStore:
    """Keeps jobs in an SQLite file. Methods are documented in `Store`."""

    is_networked = False

    def __init__(
        self,
        path: str,
        synchronous: str = "normal",
        application: str = "",
        clock: Callable[[], int] = now,
        locked_for: float = LOCKED_FOR,
    ) -> None:
        self.url = f"sqlite:{path}"
        self._clock = clock
        self._available = FileBell(f"{path}-bell")
        self._finished = FileBell(f"{path}-done")

        def check(connection: Connection) -> None:
            prepare(connection, path, application)

        self._database = Database(path, check, synchronous, locked_for)

    async def open(self) -> None:
        await self._database.connect()

    async def concerns(self) -> list[str]:
        return []

    async def close(self) -> None:
        self._database.close()

    def available_bell(self) -> FileBell:
        return FileBell(self._available.path)

    def finished_bell(self) -> FileBell:
        return FileBell(self._finished.path)

    async def _write(self, action: Callable[[Transaction], T]) -> T:
        """Run an action in a transaction, and ring the bells that it asks for once it is over."""
        transactions: list[Transaction] = []

        def run(connection: Connection) -> T:
            transaction = Transaction(connection, self._clock())
            result = action(transaction)
            transaction.count()
            transactions.append(transaction)
            return result

        result = await self._database.write(run)
        if transactions[-1].has_work:
            self._available.ring()
        if transactions[-1].has_finished:
            self._finished.ring()
        return result

    # --- those who enqueue

    async def enqueue(self, jobs: Sequence[NewJob]) -> list[Stored]:
        return await self._write(lambda transaction: workers.enqueue(transaction, jobs))

    # --- workers

    async def claim(self, claim: Claim) -> list[Claimed]:
        if not await self._database.read(
            lambda connection: workers.has_work(connection, claim, self._clock())
        ):
            return []
        return await self._write(lambda transaction: workers.claim(transaction, claim))

    async def finish(
        self, outcomes: Sequence[Outcome], claim: Claim | None = None
    ) -> tuple[list[bool], list[Claimed]]:
        def action(transaction: Transaction) -> tuple[list[bool], list[Claimed]]:
            taken = [workers.finish(transaction, outcome) for outcome in outcomes]
            return taken, workers.claim(transaction, claim) if claim is not None else []

        return await self._write(action)

    async def report(
        self,
        id: str,
        token: int,
        *,
        progress: float | None = None,
        data: bytes = b"",
        lines: Sequence[str] = (),
    ) -> bool:
        return await self._write(
            lambda transaction: workers.report(transaction, id, token, progress, data, lines)
        )

    async def cancel_requested(self, owner: str) -> list[tuple[str, int]]:
        return await self._database.read(
            lambda connection: workers.cancel_requested(connection, owner)
        )

    # --- the scheduler

    async def renew(self, owners: Sequence[str], lease: float) -> int:
        microseconds = int(lease * MICROSECONDS)
        return await self._write(
            lambda transaction: scheduler.renew(transaction, owners, microseconds)
        )

    async def owners(self, node: str) -> list[str]:
        return await self._database.read(lambda connection: scheduler.owners(connection, node))

    async def release(self, owners: Sequence[str], cause: str) -> list[Released]:
        return await self._write(lambda transaction: scheduler.release(transaction, owners, cause))

    async def reap(self) -> list[Released]:
        return await self._write(scheduler.reap)

    async def promote(self, limit: int = 1000) -> int:
        return await self._write(lambda transaction: scheduler.promote(transaction, limit))

    async def next_due(self) -> int:
        return await self._database.read(scheduler.next_due)

    async def prune(self, limit: int = 1000) -> int:
        count = await self._write(lambda transaction: scheduler.prune(transaction, limit))
        self._database.checkpoint()  # so that no worker has to do it in the middle of its jobs
        return count

    # --- operators

    async def get(self, id: str) -> JobInfo | None:
        return await self._database.read(lambda connection: operators.get(connection, id))

    async def find(self, filter: Filter) -> list[JobInfo]:
        return await self._database.read(lambda connection: operators.find(connection, filter))

    async def stats(self) -> list[QueueStats]:
        return await self._database.read(operators.stats)

    async def cancel(self, filter: Filter) -> int:
        return await self._write(lambda transaction: operators.cancel(transaction, filter))

    async def retry(self, filter: Filter) -> int:
        return await self._write(lambda transaction: operators.retry(transaction, filter))

    async def run_now(self, filter: Filter) -> int:
        return await self._write(lambda transaction: operators.run_now(transaction, filter))

    async def purge(self, filter: Filter) -> int:
        return await self._write(lambda transaction: operators.purge(transaction, filter))

    async def pause(self, queue: str, paused: bool) -> None:
        await self._write(lambda transaction: operators.pause(transaction, queue, paused))
