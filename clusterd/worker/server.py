"""What all connections of one worker share: settings, the app, counters, deadlines, the date.

Counters are plain ints and lists, since a store into the shared scoreboard costs four times as
much as one into a list. They are published in the turn that changed them after a quiet time, and
every 20 ms at most while requests keep coming.
"""

import asyncio
import email.utils
import functools
import socket
import sys
import time
from collections.abc import Callable, Mapping, Set
from typing import TYPE_CHECKING, Any

from clusterd.app.asgi import AsgiHttp1
from clusterd.app.exchange import STARTED, Exchange
from clusterd.app.extensions import over_http1
from clusterd.app.notice import Notice
from clusterd.config.memory import LEAST
from clusterd.config.settings import Config
from clusterd.core.log import get_logger, is_json
from clusterd.ipc.scoreboard import BUCKETS, Cell
from clusterd.wire.limits import Limits
from clusterd.wire.response import plain_answer
from clusterd.wire.tables import STATUS_LINES
from clusterd.worker.access import NOBODY, STYLES, AccessLog
from clusterd.worker.deadlines import Wheel
from clusterd.worker.http2_windows import Windows
from clusterd.worker.identity import identified
from clusterd.worker.memory_budget import MemoryBudget
from clusterd.worker.spool_budget import SpoolBudget
from clusterd.worker.threads import Pool
from clusterd.worker.trust import Trust, mounted
from clusterd.worker.turns import Turns

if TYPE_CHECKING:
    from clusterd.worker.link import Link

logger = get_logger("clusterd.worker")

# Turns of the loop, of some microseconds each, that a head waits for its body. Each of Starlette's
# BaseHTTPMiddleware passes head and body on in turns of their own: three of them cost no second
# write.
HEAD_TURNS = 4
LAG = 0.02  # seconds by which published counters may be late under load
UNLIMITED = sys.maxsize
RETRY = b"retry-after: 1\r\n"
BUSY_ANSWER = plain_answer(503, RETRY)
BUSY_ALERT = bytes([21, 3, 3, 0, 2, 2, 80])  # fatal, internal_error (RFC 8446, section 6)


class Server:
    """One worker's serving half. The life of the worker accepts, attaches and drains."""

    # Slots: beyond thirty attributes CPython's instance dictionaries get slow.
    __slots__ = (
        "_begun",
        "_date",
        "_published",
        "_wall",
        "accepted",
        "access",
        "answers",
        "app",
        "app_errors",
        "bytes_in",
        "bytes_out",
        "cancelled",
        "clock",
        "config",
        "connections",
        "date_due",
        "draining",
        "exchange",
        "extensions",
        "heads",
        "http",
        "is_dirty",
        "keep_alive",
        "last",
        "latency",
        "leave_by",
        "limits",
        "loop",
        "memory",
        "notice",
        "on_load",
        "open",
        "pool",
        "requests_each",
        "row",
        "running",
        "spawn",
        "spoken",
        "spools",
        "state",
        "taken",
        "tasks",
        "trust",
        "turns",
        "wheel",
        "when_empty",
        "windows",
    )

    def __init__(
        self,
        app: Any,
        config: Config,
        loop: asyncio.AbstractEventLoop,
        row: memoryview,
        state: dict[str, Any],
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.app = app
        self.config = config
        self.http = http = config.http
        self.loop = loop
        self.row = row
        self.state = state
        self.clock = clock
        self._wall = wall
        self.limits = Limits(
            http.limit_request_line, http.limit_headers, http.limit_fields, http.limit_body
        )
        self.keep_alive = http.keep_alive
        self.requests_each = http.max_requests_per_connection or UNLIMITED
        self.wheel = Wheel(loop, clock)
        self.trust = Trust(config.proxy)
        self.access: AccessLog | None = None
        self.exchange: type[Exchange] = AsgiHttp1  # what HTTP/1 connections make of a request
        self.notice = Notice(clock)
        self.extensions = over_http1(self.notice, http.file_extensions)  # of plain connections
        self.draining = False
        self.last = False  # nobody serves here after us
        self.leave_by = 0.0  # when what is left here is cut off, monotonic seconds
        self.on_load: Callable[[], None] | None = None
        self.when_empty: Callable[[], None] | None = None
        # connections and what runs on them
        self.connections: set[Link] = set()
        self.memory = MemoryBudget(http.memory_budget or LEAST, loop, self.connections, clock)
        self.turns = Turns(loop, clock)
        self.windows = Windows(self.memory, loop)
        self.spoken: dict[str, Callable[..., Link]] = {}  # beside HTTP/1, by their ALPN names
        self.open = 0
        self.running: dict[Exchange, None] = {}  # begun and not answered, oldest first
        self.cancelled = 0  # over HTTP/2, and their apps have not seen it yet
        self.tasks: set[asyncio.Task[None]] = set()
        self.spawn = spawner(loop)
        self._begun: list[Exchange] = []  # their heads were made in this turn of the loop
        self.pool: Pool | None = None  # that WSGI requests run in
        self.spools: SpoolBudget | None = None  # what their bodies take on disk
        self._start_counting()
        # answers' heads and their Content-Length, by (status, *headers); made anew each second
        self.heads: dict[tuple[Any, ...], tuple[bytes, int]] = {}
        self.date_due, self._date = 0.0, b""

    def _start_counting(self) -> None:
        """Counters since the start of the process."""
        self.accepted = 0
        self.bytes_in = 0
        self.bytes_out = 0
        self.app_errors = 0
        self.answers = [0] * 10  # by the first digit of the status
        self.latency = [0] * 64  # by the bit length of microseconds
        self.taken = 0.0  # seconds that all answers took
        self.is_dirty = False
        self._published = 0.0

    # --- towards the worker's life

    @property
    def is_full(self) -> bool:
        """Whether the worker holds as many connections as it may."""
        return self.open >= self.http.max_connections

    @property
    def load(self) -> int:
        """What the accept gate is shown: a worker without a free thread counts as full."""
        if self.pool is not None and self.pool.is_full:
            return max(self.open, self.http.max_connections)
        return self.open

    def drain_begins(self, last: bool, leave_by: float) -> None:
        """From now on every answer closes its connection."""
        self.draining = True
        self.last, self.leave_by = last, leave_by
        self.notice.give(leave_by)
        for connection in self.connections:
            connection.drain_begins()

    def shed(self) -> bool:
        """Make room for one more connection; whether there was any to be made.

        What is past its deadline goes, else what is nearest to it and can be spared: so those who
        keep silent, or are slow with a head or a handshake, go before those whose last request was
        long ago, and these before anyone is sent away. A flood displaces itself.
        """
        now = self.clock()
        for link in self.wheel.nearest():
            if link not in self.connections:
                continue  # a part of one
            if link.due <= now:
                link.overdue(now)
                if link.is_closing:
                    return True
            elif link.spare:
                link.abort()
                return True
        return False

    def refuse(self, sock: socket.socket, secure: bool = False) -> None:
        """Answer an accepted connection with 503 and close it: every worker is full.

        A handshake would cost more than we have left, so over TLS an alert must do.
        """
        try:
            sock.setblocking(False)
            sock.send(BUSY_ALERT if secure else BUSY_ANSWER)
            sock.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # it left before us
        finally:
            sock.close()
        self.accepted += 1
        self.answers[5] += 1
        if not self.is_dirty:
            self.mark_dirty(self.clock())

    def dress(self, interface: str) -> None:
        """Put what settings want around the app and its exchanges, before the first connection."""
        if self.access is not None:
            self.exchange = identified(self.exchange, self.access.names)
        if interface == "asgi" and self.trust.root_path:
            self.app = mounted(self.app, self.trust.root_path)

    def hear(self, scope: dict[str, Any], trusted: bool) -> None:
        """Let a request's scope tell what its peer says of the client, if it may; for every request
        that has one of `tables.TOLD` among its headers, of whatever protocol."""
        self.trust.amend(scope, trusted)
        if self.access is not None:
            self.access.names.settle(scope, trusted)

    def set_access_log(self, fd: int, identity: Mapping[str, Any] | None = None) -> None:
        """Log one line per request to this descriptor; again after a reopen.

        JSON lines show the worker's identity, as all other records do.
        """
        if self.access is None:
            log = self.config.log
            style = log.access_log_format
            if style == "auto":
                style = "json" if is_json(log.log_format, fd) else "common"
            self.access = STYLES[style](fd, identity or {})
        else:
            self.access.reopen(fd)

    def publish(self) -> None:
        """Write the counters into our row of the scoreboard, and what was logged to its place."""
        self.is_dirty = False
        self._published = now = self.clock()
        self.memory.look(now)
        if self.access is not None:
            self.access.flush()
        row, answers = self.row, self.answers
        row[Cell.CONNECTIONS] = self.open
        row[Cell.IN_FLIGHT] = len(self.running)
        oldest = next(iter(self.running), None)
        row[Cell.OLDEST_REQUEST] = 0 if oldest is None else int(oldest.began * 1e6)
        row[Cell.REQUESTS] = sum(answers)
        row[Cell.ACCEPTED] = self.accepted
        row[Cell.BYTES_IN] = self.bytes_in
        row[Cell.BYTES_OUT] = self.bytes_out
        row[Cell.ANSWERED_1XX] = answers[1]
        row[Cell.ANSWERED_2XX] = answers[2]
        row[Cell.ANSWERED_3XX] = answers[3]
        row[Cell.ANSWERED_4XX] = answers[4]
        row[Cell.ANSWERED_5XX] = sum(answers[5:])
        row[Cell.APP_ERRORS] = self.app_errors
        row[Cell.LATENCY_SUM] = int(self.taken * 1e6)
        row[Cell.HELD] = self.memory.held
        if self.spools is not None:
            row[Cell.SPOOLED] = self.spools.held
        latency = self.latency
        for bucket in range(BUCKETS - 1):
            if latency[bucket]:
                row[Cell.LATENCY + bucket] = latency[bucket]
        row[Cell.LATENCY + BUCKETS - 1] = sum(latency[BUCKETS - 1 :])

    # --- towards the connections

    def begins(self, exchange: Exchange) -> None:
        """A response's head was made. Send it by itself if no body follows in the next turns.

        One callback serves all responses of a turn. A response that is complete in the first step
        of its task never comes here.
        """
        if not self._begun:
            self.loop.call_soon(self._show_heads, HEAD_TURNS)
        self._begun.append(exchange)

    def _show_heads(self, turns: int) -> None:
        """Send the heads whose body has not come, now or after some more turns of the loop."""
        begun = [exchange for exchange in self._begun if exchange.stage is STARTED]
        if begun and turns > 1:
            self.loop.call_soon(self._show_heads, turns - 1)
            self._begun = begun
            return
        self._begun = []
        for exchange in begun:
            exchange.show_head()

    def answered(self, exchange: Exchange, scope: dict[str, Any], size: int, now: float) -> None:
        """Count an answer, and log it. HTTP/1 does so itself, and spares the call."""
        self.bytes_out += size
        self.answers[exchange.status // 100] += 1
        took = now - exchange.began
        self.taken += took
        self.latency[int(took * 1e6).bit_length()] += 1
        if not self.is_dirty:
            self.mark_dirty(now)
        if self.access is not None:
            self.access.add(scope, exchange.status, size, took)
        self.running.pop(exchange, None)

    def refused(
        self, status: int, size: int, scope: dict[str, Any] = NOBODY, read: bytes = b""
    ) -> None:
        """Count what we answered without the app; scope and `read` as `add_refused` has them."""
        self.answers[status // 100] += 1
        self.bytes_out += size
        if self.access is not None:
            self.access.add_refused(scope, read, status, size)
        if not self.is_dirty:
            self.mark_dirty(self.clock())

    def opened(self, connection: "Link") -> None:
        self.connections.add(connection)
        self.open += 1
        self.accepted += 1
        self.load_changed()
        if self.draining:  # it was accepted before that, a turn of the loop ago
            connection.drain_begins()

    def closed(self, connection: "Link") -> None:
        """A connection is over; its descriptor is closed right after this."""
        connection.shut_down()
        self.connections.discard(connection)
        self.open -= 1
        self.wheel.forget(connection)
        self.memory.forget(connection)
        self.load_changed()
        if not self.open and self.when_empty is not None:
            self.when_empty()

    def succeeded(self, before: "Link", after: "Link") -> None:
        """Another protocol is spoken on a connection from now on."""
        self.connections.discard(before)
        self.wheel.forget(before)
        self.memory.forget(before)
        self.connections.add(after)

    def load_changed(self) -> None:
        if self.on_load is not None:
            self.on_load()
        if not self.is_dirty:
            self.mark_dirty(self.clock())

    def mark_dirty(self, now: float) -> None:
        """See to it that the counters are published."""
        self.is_dirty = True
        wait = self._published + LAG - now
        if wait > 0:
            self.loop.call_later(wait, self._publish_late)
        else:
            self.loop.call_soon(self._publish_late)

    def _publish_late(self) -> None:
        if self.is_dirty:
            self.publish()

    def refresh(self, now: float) -> None:
        """A new second: heads are made with its date."""
        wall = self._wall()
        self.date_due = now + 1.0 - wall % 1.0
        self._date = f"date: {email.utils.formatdate(wall, usegmt=True)}\r\n".encode()
        self.heads.clear()

    def head_of(self, status: int, without: Set[bytes] = frozenset()) -> bytes:
        """The status line, Date and Server, less those that the app sends itself."""
        head = STATUS_LINES[status]
        if b"date" not in without:
            head += self._date
        if b"server" not in without and self.http.server_header:
            head += b"server: clusterd\r\n"
        return head

    def answer_of_ours(self, status: int, has_body: bool = True, lines: bytes = b"") -> bytes:
        """A whole answer without the app, after which the connection is closed.

        `lines` are headers that it must have.
        """
        return plain_answer(status, self.lines_of_ours() + lines, has_body)

    def lines_of_ours(self, without: Set[bytes] = frozenset()) -> bytes:
        """Date and Server, less those that the app sends itself."""
        self.refresh_if_due()
        date = b"" if b"date" in without else self._date
        return date if b"server" in without else date + self._server_line()

    def _server_line(self) -> bytes:
        return b"server: clusterd\r\n" if self.http.server_header else b""

    def refresh_if_due(self) -> None:
        now = self.clock()
        if now >= self.date_due:
            self.refresh(now)


def spawner(loop: asyncio.AbstractEventLoop) -> Callable[[Any], asyncio.Task[None]]:
    """How a coroutine becomes a task: eagerly where that is known (3.12), which spares most
    requests a turn of the loop."""
    if sys.version_info >= (3, 12):
        return functools.partial(asyncio.Task, loop=loop, eager_start=True)
    return loop.create_task
