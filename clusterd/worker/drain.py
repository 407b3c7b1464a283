"""Leaving: stop accepting, finish what is in hand, hand over the rest, all within a time."""

import asyncio
import contextlib
import fcntl
import struct
import termios
import time
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from clusterd.core.log import fields, get_logger
from clusterd.ipc.messages import Drain as Order
from clusterd.kernel.filters import admit
from clusterd.worker.accept import Acceptor
from clusterd.worker.handover import Handover

logger = get_logger("clusterd.drain")

TICK = 0.05  # s between two looks at what is left
SILENCE = 5.0  # s without a request, after which a connection that nobody took is closed
LAST_SILENCE = 1.0  # the same at a stop: since its last byte, so that old idle ones go at once
UNREAD = struct.Struct("i")


def reserve(within: float) -> float:
    """The end of the time that is kept for cancelled tasks and the app's own shutdown."""
    return min(2.0, within / 5)


class Connection(Protocol):
    """What a drain asks of a connection."""

    idle: bool
    since: float  # when something last happened there, 0 for nothing yet

    def fileno(self) -> int: ...
    def release(self) -> int | None: ...
    def close_when_idle(self) -> None: ...
    def abort(self) -> None: ...
    def cancel(self) -> object: ...


class Host(Protocol):
    """What a drain asks of the server."""

    connections: set[Any]
    tasks: set[Any]  # the app's, of requests and WebSockets, also of those whose client has left
    when_empty: Callable[[], None] | None

    @property
    def running(self) -> Iterable[Any]: ...  # exchanges that wait for their app

    def drain_begins(self, last: bool, leave_by: float) -> None: ...


class Drain:
    """One worker's way out. A later order can only hurry it."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        host: Host,
        acceptor: Acceptor,
        handover: Handover | None,
        order: Order,
        stream_grace: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.handed_over = 0
        self.on_offered: Callable[[], None] | None = None  # idle connections had their look
        self._loop = loop
        self._host = host
        self._acceptor = acceptor
        self._handover = handover
        self._clock = clock
        self._why = order.why
        self._last = order.last
        self._hands_over = order.handover and not order.last and handover is not None
        self._began = clock()
        self._deadline = self._began + order.within
        self._cut = self._deadline - reserve(order.within)
        self._silence = min(SILENCE, (self._cut - self._began) / 2)
        self._streams_end = self._began + min(stream_grace, (self._cut - self._began) / 2)
        self._first_seen: dict[Connection, float] = {}  # of those that said nothing yet
        self._wake = asyncio.Event()

    @property
    def left(self) -> float:
        """Seconds until all must be over."""
        return max(0.0, self._deadline - self._clock())

    def hurry(self, order: Order) -> None:
        """A second order: at most as much time as it grants, and no sibling when it is the last."""
        deadline = self._clock() + order.within
        if deadline < self._deadline:
            self._deadline = deadline
            self._cut = min(self._cut, deadline - reserve(order.within))
        becomes_last = order.last and not self._last
        if becomes_last:
            self._last, self._hands_over = True, False
        self._host.drain_begins(self._last, self._cut)
        if becomes_last:
            self._acceptor.sweep()  # what siblings, which leave as well, were handed
        self._wake.set()

    async def run(self) -> None:
        """Returns when no connection is left; the app's shutdown is not ours."""
        self._acceptor.stop()
        host = self._host
        # Before the queues are emptied: a connection that is made now must know from its first
        # response on that there is to be no second one.
        host.drain_begins(self._last, self._cut)
        self._empty_queues()
        host.when_empty = self._wake.set
        # Connections just accepted get their `connection_made`, and one look at their bytes.
        for _ in range(3):
            await asyncio.sleep(0)
        self._admit_all()
        self._look()
        if self.on_offered is not None:
            self.on_offered()
        while True:
            if not host.connections and not host.tasks and not self._more():
                break
            if self._clock() >= self._cut:
                await self._cut_off()
                break
            await self._pause(min(TICK, max(0.0, self._cut - self._clock())))
            self._look()
        host.when_empty = None
        self._acceptor.close()
        logger.debug("drained", extra=fields(why=self._why, handed_over=self.handed_over))

    def _empty_queues(self) -> None:
        """As the last, accept what waits in the queues, which were closed to newcomers.

        The listeners stay open a while: a handshake that was half-way then still ends in them.
        """
        if self._last:
            self._acceptor.sweep()
        else:
            self._acceptor.close()

    def _admit_all(self) -> None:
        """Lift the limit that connections may have inherited from their listener.

        The master closes listeners to newcomers before we hear that we are to leave: what we
        accepted in between may be deaf.
        """
        for connection in self._host.connections:
            with contextlib.suppress(OSError):  # it is closed
                admit(connection.fileno())

    def _more(self) -> bool:
        """Whether a last look into the queues found another client."""
        return self._last and self._acceptor.sweep() > 0

    def _look(self) -> None:
        """Hand over or close what is idle, as far as that loses nothing."""
        if self._last:
            self._acceptor.sweep()
        now = self._clock()
        if now >= self._streams_end:
            for exchange in list(self._host.running):
                exchange.end_stream()
        for connection in list(self._host.connections):
            if not connection.idle:
                continue
            if self._hands_over and self._hand_over(connection):
                continue
            # The server sees to it that the next answer says that it is the last one.
            silent_since = connection.since or self._first_seen.setdefault(connection, now)
            if self._last:
                over = silent_since + LAST_SILENCE
            else:
                over = max(silent_since, self._began) + self._silence
            if now >= over and not unread(connection):
                connection.close_when_idle()

    def _hand_over(self, connection: Connection) -> bool:
        handover = self._handover
        if handover is None or not handover.has_room():
            return False
        fd = connection.release()
        if fd is None:
            return False  # a request has just begun: it is answered here
        if handover.give(fd):
            self.handed_over += 1
        else:
            self._acceptor.take_back(fd)
        return True

    async def _cut_off(self) -> None:
        """Out of time: cancel the tasks, let them see it, then drop what is still there."""
        host = self._host
        for exchange in list(host.running):
            # A response that has begun is cut, and not replaced by a 503, which an event stream's
            # client would take for the end of the service.
            exchange.show_head()
            exchange.end_stream()
        left = [connection for connection in host.connections if not connection.idle]
        if left:
            logger.warning(
                "requests were cut off: the graceful timeout is over",
                extra=fields(connections=len(left), why=self._why),
            )
        for connection in left:
            connection.cancel()
        until = self._clock() + self.left / 4
        while left and host.connections and self._clock() < until:
            await self._pause(TICK)
        for connection in list(host.connections):
            connection.abort()
        await asyncio.sleep(0)

    async def _pause(self, seconds: float) -> None:
        self._wake.clear()
        timer = self._loop.call_later(seconds, self._wake.set)
        await self._wake.wait()
        timer.cancel()


def unread(connection: Connection) -> bool:
    """Whether the kernel holds bytes of this connection that the loop has not read yet."""
    try:
        buffer = fcntl.ioctl(connection.fileno(), termios.FIONREAD, bytes(UNREAD.size))
    except OSError:
        return False
    return bool(UNREAD.unpack(buffer)[0] > 0)
