"""One SQLite database of this process: its connection, transactions, retries and errors.

All threads of a process share one connection, behind a lock: SQLite lets one transaction write at a
time anyway, and a connection that is closed before each fork must not be in use by a thread.
"""

import asyncio
import ctypes
import os
import random
import sqlite3
import threading
import time
import urllib.parse
from collections.abc import Callable
from typing import TypeVar
from weakref import WeakSet

from clusterd.core.log import get_logger
from clusterd.jobs.store import StoreError, StoreUnavailable
from clusterd.kernel.database_files import FUSE, create, identity, shared_file_system

T = TypeVar("T")
Connection = sqlite3.Connection

LOCKED_FOR = 10.0  # seconds that another process may keep its write lock
# Seconds until the next try, at most. Pauses that grow, as those of SQLite's own handler do, let
# the writers that have waited longest starve: of 4 processes with synchronous=full on 2 busy cores
# the last made 0.15 to 0.23 of the first's transactions where pauses grew to 20 ms, and 0.59 to
# 0.69 with this. With 3 ms the throughput of synchronous=normal was half.
PAUSE = 0.001
OLDEST_SQLITE = (3, 35, 0)  # has RETURNING
# Pages of 4 KiB in the write-ahead log until the process that commits copies them: 40 MiB. The
# scheduler does so long before, thus a worker does only where none runs.
CHECKPOINT_PAGES = 10_000
LOG_SIZE = 64 * 1024 * 1024  # bytes that the write-ahead log keeps once it was copied

_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL}
_AWAY = {
    sqlite3.SQLITE_FULL: "the disk is full",
    sqlite3.SQLITE_READONLY: "it may not be written to",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened",
    sqlite3.SQLITE_IOERR: "the disk reports an error",
    sqlite3.SQLITE_PERM: "access is not permitted",
    sqlite3.SQLITE_NOMEM: "there is no memory left",
}
_UNUSABLE = {
    sqlite3.SQLITE_NOTADB: ("it is not an SQLite database", "Name another file."),
    sqlite3.SQLITE_CORRUPT: ("it is damaged", "Restore it from a backup, or move it away."),
}


class Database:
    """A file, and this process's connection to it.

    `prepare` creates or checks the schema on a new connection, and raises StoreError.
    """

    def __init__(
        self,
        path: str,
        prepare: Callable[[Connection], None],
        synchronous: str = "normal",
        locked_for: float = LOCKED_FOR,
    ) -> None:
        self.path = path
        self._prepare = prepare
        self._synchronous = synchronous
        self._locked_for = locked_for
        self._lock = threading.RLock()  # re-entered by a signal handler that forks
        self._connection: Connection | None = None
        self._pid = 0  # of the process that made the connection
        self._identity: tuple[int, int] | None = None
        _databases.add(self)

    async def write(self, action: Callable[[Connection], T]) -> T:
        """Run statements in one transaction that may write. After an error nothing has changed.

        Raises StoreUnavailable and StoreError.
        """
        return await self._retry(action, "BEGIN IMMEDIATE")

    async def read(self, action: Callable[[Connection], T]) -> T:
        """Run statements that see the database as it is now. Raises as `write` does."""
        return await self._retry(action, "BEGIN")

    async def connect(self) -> None:
        """Connect, and create or check the schema. Raises as `write` does."""
        await self.read(lambda _: None)

    def checkpoint(self) -> None:
        """Copy the write-ahead log into the database, as far as no reader needs it. Never waits."""
        with self._lock:
            if self._connection is not None and self._pid == os.getpid():
                try:
                    self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
                except sqlite3.Error:
                    pass  # a full disk: the next transaction says so

    def close(self) -> None:
        """Close the connection. The next transaction makes another one."""
        with self._lock:
            connection, self._connection = self._connection, None
            if connection is None:
                return
            if self._pid == os.getpid():
                connection.close()
            else:
                # Made before a fork that Python's hooks did not see. To close it here would take
                # the parent's locks for gone, so it is kept for ever.
                ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))

    def __del__(self) -> None:
        self.close()

    async def _retry(self, action: Callable[[Connection], T], begin: str) -> T:
        started = time.monotonic()
        while True:
            try:
                return self._attempt(action, begin)
            except sqlite3.Error as error:
                if not _is_busy(error):
                    raise explain(error, self.path) from error
                if time.monotonic() - started >= self._locked_for:
                    raise StoreUnavailable(
                        f"the job store {self.path} has been locked by another process for "
                        f"{self._locked_for:g} s"
                    ) from error
            except OSError as error:
                raise StoreUnavailable(
                    f"the job store {self.path} cannot be used: {error.strerror}"
                ) from error
            await _pause(random.uniform(0.0, PAUSE))

    def _attempt(self, action: Callable[[Connection], T], begin: str) -> T:
        with self._lock:
            connection = self._connected()
            try:
                connection.execute(begin)
                result = action(connection)
                connection.execute("COMMIT")
            except BaseException:
                self._roll_back(connection)
                raise
            return result

    def _roll_back(self, connection: Connection) -> None:
        """Undo a transaction; some errors have done so already."""
        try:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        except sqlite3.Error:
            self.close()

    def _connected(self) -> Connection:
        if self._connection is not None and self._pid != os.getpid():
            self.close()
        if self._connection is None:
            self._connection = self._connect()
            self._pid = os.getpid()
        elif identity(self.path) != self._identity:
            # Else it would be written where no other process reads. The next try finds what is
            # there by then, or makes it anew.
            self.close()
            raise StoreUnavailable(f"the job store {self.path} was deleted or replaced")
        return self._connection

    def _connect(self) -> Connection:
        if sqlite3.sqlite_version_info < OLDEST_SQLITE:
            raise StoreError(
                f"SQLite {sqlite3.sqlite_version} is too old for a job store, "
                "expected 3.35 or newer"
            )
        create(self.path)
        self._check_file_system()
        # What was deleted since is not made anew by SQLite, with a mode that lets others read.
        address = f"file:{urllib.parse.quote(os.fsencode(self.path))}?mode=rw"
        connection = sqlite3.connect(
            address, uri=True, timeout=0, isolation_level=None, check_same_thread=False
        )
        try:
            self._identity = identity(self.path)
            self._configure(connection)
            self._prepare(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _configure(self, connection: Connection) -> None:
        (mode,) = connection.execute("PRAGMA journal_mode = wal").fetchone()
        if mode != "wal":
            raise StoreError(
                f"the job store {self.path} cannot have a write-ahead log: its file system does "
                "not support shared memory",
                "Keep it on a local file system.",
            )
        connection.execute(f"PRAGMA synchronous = {self._synchronous}")
        connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
        connection.execute(f"PRAGMA journal_size_limit = {LOG_SIZE}")
        connection.execute("PRAGMA temp_store = memory")

    def _check_file_system(self) -> None:
        kind = shared_file_system(self.path)
        if kind == FUSE:
            get_logger().warning(
                "the job store %s is on a FUSE file system: jobs may be lost or run twice where "
                "that is a network's",
                self.path,
            )
        elif kind:
            raise StoreError(
                f"the job store {self.path} is on a network file system ({kind}), on which SQLite "
                "loses data",
                "Keep it on a local file system.",
            )

    def hold(self) -> None:
        """Finish what other threads do here and close the connection, for a fork."""
        self._lock.acquire()
        if self._connection is not None and not self._connection.in_transaction:
            self.close()

    def release(self) -> None:
        """Let threads go on."""
        self._lock.release()


async def _pause(seconds: float) -> None:
    """Wait without blocking the event loop, where one runs."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        time.sleep(seconds)  # noqa: ASYNC251
    else:
        await asyncio.sleep(seconds)


def _code(error: sqlite3.Error) -> int:
    """Return the primary result code; −1 for an error of Python's module itself."""
    code: int = getattr(error, "sqlite_errorcode", -1)
    return code & 0xFF if code >= 0 else -1


def _is_busy(error: sqlite3.Error) -> bool:
    return _code(error) in _BUSY


def explain(error: sqlite3.Error, path: str) -> Exception:
    """Return what to raise for an error of SQLite: one sentence that names the file."""
    code = _code(error)
    if code in _UNUSABLE:
        reason, remedy = _UNUSABLE[code]
        return StoreError(f"the job store {path} cannot be used: {reason}", remedy)
    if code in _AWAY:
        return StoreUnavailable(f"the job store {path} cannot be used: {_AWAY[code]} ({error})")
    return error if code < 0 else StoreError(f"the job store {path} cannot be used: {error}")


# SQLite keeps the locks of a process in lists that a forked child would inherit: a new connection
# of the child would take the parent's locks for its own, and the last process that closes would
# delete the write-ahead log under it. So no connection is open while the process forks.
_databases: WeakSet[Database] = WeakSet()
_forking = threading.local()  # what each thread that forks holds meanwhile


def _before_fork() -> None:
    # In one order, so that two threads that fork do not wait for each other.
    _forking.held = sorted(_databases, key=id)
    for database in _forking.held:
        database.hold()


def _after_fork() -> None:
    for database in _forking.held:
        database.release()
    _forking.held = []


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork)
