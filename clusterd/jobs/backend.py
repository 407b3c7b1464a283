"""The store of a `Jobs`, opened at its first use; with sync and async twins of what callers need.

Plain functions run a store's coroutine themselves, since no event loop runs in their thread.
"""

import importlib
import os
import sys
from collections.abc import Sequence
from typing import Protocol

from clusterd.config.jobs import SQLITE, STORE
from clusterd.core.urls import absolute_file, without_password
from clusterd.jobs.drive import run
from clusterd.jobs.records import Filter, JobInfo, NewJob, Stored
from clusterd.jobs.store import Store, StoreError
from clusterd.jobs.times import now
from clusterd.kernel.loading import is_loading


class Codec(Protocol):
    """What `Jobs(codec=…)` takes, for encryption or compression of arguments and results."""

    def encode(self, data: bytes) -> bytes: ...

    def decode(self, data: bytes) -> bytes: ...


class PlainCodec:
    """Leaves data as it is."""

    def encode(self, data: bytes) -> bytes:
        return data

    def decode(self, data: bytes) -> bytes:
        return data


def refuse_event_loop(name: str, instead: str = "") -> None:
    """Raise RuntimeError where an event loop runs in this thread, which a plain call would stop."""
    # Not imported: where no module has imported asyncio, no loop can run.
    events = sys.modules.get("asyncio.events")
    if events is not None and events._get_running_loop() is not None:
        instead = instead or f"await a{name}()"
        raise RuntimeError(f"{name}() would block the event loop that runs here: {instead}")


class Backend:
    """Where the jobs of one `Jobs` are stored."""

    immediate = False  # whether waiting for a job is of no use: in tests of users

    def __init__(self, url: str, codec: Codec, store: Store | None = None) -> None:
        """`store`: one that is open, in tests."""
        self.codec = codec
        self._url = url
        self._store = store
        if is_loading() and (told := os.environ.get(STORE)):
            # Once, for all workers that are forked from here: redis-py takes 0.3 s.
            importlib.import_module("clusterd.jobs.stores").load(told)

    def now(self) -> int:
        """Return the time in microseconds since the epoch."""
        return now()

    # --- the store

    def open(self) -> Store:
        """Return the store, opened. Raises StoreError, StoreUnavailable."""
        if self._store is None:
            store = self._find()
            run(store, store.open())
            if self._store is not None:  # another thread was quicker
                run(store, store.close())
                return self._store
            self._store = store
        return self._store

    async def aopen(self) -> Store:
        """Return the store, opened. Raises StoreError, StoreUnavailable."""
        if self._store is None:
            store = self._find()
            await store.open()
            if self._store is not None:  # another task was quicker
                await store.close()
                return self._store
            self._store = store
        return self._store

    def _find(self) -> Store:
        if is_loading():
            # One line, since that is what the log shows of an import that failed.
            raise StoreError(
                "jobs cannot be enqueued while the application is being imported, as each start "
                "and reload would enqueue again and all workers would share an open store: enqueue "
                "in a request, in a job, or in the application's lifespan"
            )
        open_store = importlib.import_module("clusterd.jobs.stores").open_store
        store: Store = open_store(find_url(self._url))
        return store

    # --- what callers need

    def enqueue(self, jobs: Sequence[NewJob]) -> list[Stored]:
        store = self.open()
        return run(store, store.enqueue(jobs))

    async def aenqueue(self, jobs: Sequence[NewJob]) -> list[Stored]:
        return await (await self.aopen()).enqueue(jobs)

    def get(self, id: str) -> JobInfo | None:
        store = self.open()
        return run(store, store.get(id))

    async def aget(self, id: str) -> JobInfo | None:
        return await (await self.aopen()).get(id)

    def cancel(self, id: str) -> bool:
        store = self.open()
        return run(store, store.cancel(Filter(ids=(id,)))) > 0

    async def acancel(self, id: str) -> bool:
        return await (await self.aopen()).cancel(Filter(ids=(id,))) > 0


def find_url(given: str) -> str:
    """Return the URL of the store: the one that `Jobs(…)` was given, else that of the settings.

    Raises StoreError where both are there and differ: web and job workers would miss each other.
    """
    told = os.environ.get(STORE, "")
    if not given:
        # Imported here, for scripts: the processes of a cluster have the variable.
        find_store = importlib.import_module("clusterd.jobs.places").find_store
        return told or str(find_store(os.environ, os.getcwd()))
    url = absolute(given)
    if not told:
        return url
    if _as_far_as(url, absolute(told)) != url:
        raise StoreError(
            f"Jobs({without_password(given)!r}) names another store than the settings do, which is "
            f"{without_password(told)}",
            "Write Jobs(), or the same store in both.",
        )
    return absolute(told)


def _as_far_as(url: str, told: str) -> str:
    """Return the store of the settings, without the namespace where the other names none."""
    place, question, _ = told.partition("?")
    return told if "?" in url or not question or told.startswith("sqlite:") else place


def absolute(url: str) -> str:
    """Return a URL with the path of its file made absolute."""
    return absolute_file(url, os.getcwd()) if url.startswith(SQLITE) else url
