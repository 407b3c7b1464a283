"""Connections to Redis: one pool per event loop and process. Here redis-py is configured."""

import asyncio
import contextlib
import hashlib
import os
import uuid
from collections.abc import Iterator, Sequence
from typing import Any
from weakref import WeakKeyDictionary

from redis.asyncio import BlockingConnectionPool, ConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    NoPermissionError,
    NoScriptError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from clusterd.jobs.store import StoreError, StoreUnavailable

TIMEOUT = 5.0  # seconds until a server that does not respond is taken to be away
MOST_CONNECTIONS = 16  # of one event loop; a command that finds none free waits for one
Argument = bytes | str | int | float
# What a server responds that is there, and cannot write or read now.
_AWAY = (
    "BUSY",
    "CLUSTERDOWN",
    "LOADING",
    "MASTERDOWN",
    "MISCONF",
    "NOREPLICAS",
    "OOM",
    "READONLY",
    "TRYAGAIN",
)


class Script:
    """A script, by its digest: its text is sent only where the server does not have it."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.digest = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


class Line:
    """What one event loop of this process has: connections, and numbered claims."""

    def __init__(self, client: "Redis") -> None:
        self.client = client
        self.claimer = uuid.uuid4().hex
        self.number = 0  # of the last claim that was sent
        self.confirmed = 0  # of the last claim whose reply arrived
        self.claiming = asyncio.Lock()


class Connections:
    """All connections of one store."""

    def __init__(self, url: str, shown: str, timeout: float) -> None:
        """`url` is for redis-py, `shown` for messages: without a password."""
        self.shown = shown
        self._url = url
        self._timeout = timeout
        self._pid = os.getpid()
        self._lines: WeakKeyDictionary[asyncio.AbstractEventLoop, Line] = WeakKeyDictionary()
        self._of_parents: list[object] = []

    def line(self) -> Line:
        """Return the connections of the running loop. Those of a parent process are never used."""
        if self._pid != os.getpid():
            # Kept: to collect them would take their descriptors out of the parent's epoll set.
            self._of_parents.append(dict(self._lines))
            self._lines, self._pid = WeakKeyDictionary(), os.getpid()
        loop = asyncio.get_running_loop()
        if loop not in self._lines:
            self._lines[loop] = Line(self.client(BlockingConnectionPool, MOST_CONNECTIONS))
        return self._lines[loop]

    def client(self, pool: type[ConnectionPool], most: int) -> "Redis":
        """Return a client with connections of its own.

        It never sends anything twice: after a timeout nobody knows whether a write was done.
        """
        return Redis.from_pool(
            pool.from_url(
                self._url,
                max_connections=most,
                protocol=2,
                socket_timeout=self._timeout,
                socket_connect_timeout=self._timeout,
                socket_keepalive=True,
                retry=Retry(NoBackoff(), 0),
            )
        )

    async def run(self, script: Script, key: str, arguments: Sequence[Argument]) -> Any:
        """Run a script and return its reply. Raises StoreUnavailable."""
        client = self.line().client
        with self.translated():
            try:
                return await client.evalsha(script.digest, 1, key, *arguments)
            except NoScriptError:
                return await client.eval(script.text, 1, key, *arguments)

    async def info(self) -> dict[str, Any]:
        """Return what the server says of itself; nothing where this user may not ask.

        Raises StoreUnavailable, and StoreError where the server refuses this user.
        """
        try:
            with self.translated():
                found: dict[str, Any] = await self.line().client.info()
                return found
        except StoreUnavailable as error:
            cause = error.__cause__
            if isinstance(cause, NoPermissionError):
                return {}
            if isinstance(cause, (AuthenticationError, AuthorizationError)):
                raise StoreError(
                    f"{self.shown} refuses to serve us: {cause}",
                    "Say user and password: redis://USER:PASSWORD@HOST.",
                ) from cause
            raise

    async def close(self) -> None:
        """Close the connections of the running loop."""
        if self._pid == os.getpid():
            line = self._lines.pop(asyncio.get_running_loop(), None)
            if line is not None:
                with contextlib.suppress(RedisConnectionError, RedisTimeoutError, OSError):
                    await line.client.aclose()

    @contextlib.contextmanager
    def translated(self) -> Iterator[None]:
        """Raise StoreUnavailable for what can pass by itself."""
        try:
            yield
        except (RedisConnectionError, RedisTimeoutError, OSError) as error:
            raise StoreUnavailable(f"{self.shown}: {error}") from error
        except ResponseError as error:
            if isinstance(error, NoPermissionError) or str(error).startswith(_AWAY):
                raise StoreUnavailable(f"{self.shown}: {error}") from error
            raise
