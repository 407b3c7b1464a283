"""Wake processes of all machines by Redis's publish and subscribe.

Whatever is published while a process is not connected is lost to it. So a bell rings, too, once it
listens: its process looks into the store then.
"""

import asyncio
import threading
from concurrent.futures import Future
from typing import Any

from redis.asyncio import ConnectionPool

from clusterd.jobs import loop_thread
from clusterd.jobs.bell import EventBell
from clusterd.jobs.redis_connection import Connections
from clusterd.jobs.store import StoreUnavailable

QUIET = 10.0  # seconds without a message until the connection is tried
AGAIN = 1.0  # seconds until a server that is away is tried again


class RedisBell(EventBell):
    """A bell that rings at each message of a channel."""

    def __init__(self, connections: Connections, channel: str) -> None:
        super().__init__()
        self._connections = connections
        self._channel = channel
        self._listener: asyncio.Task[None] | Future[None] | None = None
        # The listener may run in another thread, and must not write to a closed descriptor.
        self._lock = threading.Lock()

    def fileno(self) -> int:
        fd = super().fileno()
        if self._listener is None:
            try:
                loop = asyncio.get_running_loop()
            except RuntimeError:
                self._listener = loop_thread.submit(self._listen())
            else:
                self._listener = loop.create_task(self._listen(), name="jobs: bell")
        return fd

    def ring(self) -> None:
        with self._lock:
            super().ring()

    def close(self) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.cancel()
        with self._lock:
            super().close()

    async def _listen(self) -> None:
        while True:
            try:
                with self._connections.translated():
                    await self._follow()
            except StoreUnavailable:
                # Those who use the store say it. They look by their own clock, too.
                await asyncio.sleep(AGAIN)

    async def _follow(self) -> None:
        """Ring for each message, until the connection fails."""
        client = self._connections.client(ConnectionPool, 1)
        subscription: Any = client.pubsub()
        try:
            await subscription.subscribe(self._channel)
            while True:
                message = await subscription.get_message(timeout=QUIET)
                if message is None:
                    await subscription.ping()
                elif message["type"] != "pong":
                    self.ring()  # also for the confirmation
        finally:
            await subscription.aclose()
            await client.aclose()
