"""A connection until its PROXY header has come, before TLS and before any request.

Whoever is not trusted, or does not begin with a proper header, is dropped without a word: to guess
would be to let anybody name the address that the app shall see.
"""

import asyncio
import functools
from collections.abc import Callable

from clusterd.core.errors import PeerError
from clusterd.core.log import fields, get_logger
from clusterd.wire.proxy import decode
from clusterd.worker.connection import Connection
from clusterd.worker.link import SLOTS, Link, Origin
from clusterd.worker.server import Server

logger = get_logger("clusterd.proxy")

Next = Callable[..., Link]  # makes what is spoken after the header, given its `origin`
QUIET = 1.0  # seconds between two lines about those who were dropped


class Dropped:
    """Counts those who were dropped, and says so once a second at most."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.count = 0
        self._told = 0
        self._clock = clock
        self._quiet_until = 0.0

    def add(self, why: str, peer: str) -> None:
        self.count += 1
        now = self._clock()
        if now >= self._quiet_until:
            self._quiet_until = now + QUIET
            count, self._told = self.count - self._told, self.count
            logger.warning(
                "connections without a proxy's word were dropped: %s",
                why,
                extra=fields(peer=peer, connections=count),
            )


class Preamble(Link):
    """What a listener makes of its connections under `--proxy-protocol`."""

    __slots__ = (*SLOTS, "_came", "_dropped", "_next")

    def __init__(self, server: Server, dropped: Dropped, next_: Next) -> None:
        super().__init__(server)
        self._dropped = dropped
        self._next = next_
        self._came = b""  # of the header

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.greet(transport)
        self.server.opened(self)
        if not self.trusted:
            self._drop("the peer is not a trusted proxy")
            return
        self._wait(self.server.http.header_timeout)

    def data_received(self, data: bytes) -> None:
        if self.is_closing:
            return
        self._now = self.server.clock()
        self._came += data
        try:
            told = decode(self._came)
        except PeerError as error:
            self._drop(error.message)
            return
        if told is not None:
            self.server.bytes_in += told.size
            rest, self._came = self._came[told.size :], b""
            self._go_on(None if told.ends is None else Origin(*told.ends), rest)

    def _go_on(self, origin: Origin | None, rest: bytes) -> None:
        """The client has the word from here on."""
        if origin is not None:
            self._origin = origin
            self.greet(self._transport)
        self.succeed(self._next(origin=origin), rest)

    def _drop(self, why: str) -> None:
        client = self.template["client"]
        self._dropped.add(why, str(client[0]) if client else "unknown")
        self.abort()

    # --- its end

    @property
    def idle(self) -> bool:
        """Nobody waits for an answer yet; a drain gives it as long as any silent connection."""
        return not self.is_closing

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, error: Exception | None) -> None:
        self.is_closing = True
        self.server.closed(self)

    def drain_begins(self) -> None:
        """It may still become a request, which will be the last."""

    def overdue(self, now: float) -> None:
        self._drop("the PROXY header did not come in time")

    def close(self) -> None:
        self.abort()


def expecting_header(server: Server, next_: Next | None) -> Callable[[], Preamble]:
    """How a listener makes its connections, given how it would without PROXY headers."""
    next_ = next_ or functools.partial(Connection, server)
    return functools.partial(Preamble, server, Dropped(server.clock), next_)
