"""One WebSocket's connection: from the handshake's request to the close frames, and after them.

Reading stops while the app does not take messages, and the app waits while its client does not.
Every stage has its deadline in the worker's wheel: a client that answers neither pings nor a close
frame is let go. A worker that leaves says so: 1012 at a reload, spread over a part of the time it
has, so that not all clients come back at once; 1001 at a stop.
"""

import asyncio
import random
from collections.abc import Set

from clusterd.app.exchange import WAITING, Exchange
from clusterd.app.extensions import over_websocket
from clusterd.app.scope import Scope
from clusterd.app.websocket import Session
from clusterd.wire import websocket as wire
from clusterd.wire.heads import Asked, Pair
from clusterd.wire.response import Judged
from clusterd.wire.upgrade import Refused, Upgrade, judge, switch
from clusterd.wire.websocket import Frames, Violation, head
from clusterd.worker.deadlines import NEVER
from clusterd.worker.link import SLOTS, Link
from clusterd.worker.server import Server

COPIED = 16 * 1024  # bytes; what is longer is handed to the transport beside its frame's head
FAREWELL = 5.0  # seconds for a client to answer our close frame
LINGER = 2.0  # seconds for one that must take our close frame while it may still be sending
LINGER_ROOM = 1024 * 1024  # bytes thrown away meanwhile
SPREAD = 0.5  # of the time left at a reload: over this part of it clients are sent away


class WebSocket(Frames, Link):
    """Takes over from the HTTP connection that read the handshake's request."""

    __slots__ = (
        *SLOTS,
        *wire.SLOTS,
        "_asked",
        "_discarded",
        "_headers",
        "_heard",
        "_is_lingering",
        "_is_stopped",
        "_leaving",
        "_next_ping",
        "_owed",
        "_said_close",
        "_unanswered",
        "_upgrade",
        "app",
        "heads",
        "session",
    )

    _upgrade: Upgrade

    def __init__(self, server: Server, asked: Asked, headers: list[Pair]) -> None:
        Frames.__init__(self, server.config.websocket.websocket_max_size)
        Link.__init__(self, server)
        self.app = server.app
        self.heads = server.heads
        self.session: Session | None = None  # None: the handshake was refused
        self._asked = asked
        self._headers = headers
        self._is_stopped = False  # reading is paused, by us
        self._heard = False  # something came since the last ping
        self._next_ping = self._unanswered = NEVER  # when, and of which time no answer came yet
        self._owed: bytes | None = None  # the last ping that came while the client did not read
        self._said_close = False
        self._is_lingering = False
        self._discarded = 0
        self._leaving: asyncio.TimerHandle | None = None

    # --- the handshake

    def taken_over(self, before: Link, data: bytes) -> None:
        super().taken_over(before, data)
        server = self.server
        compress = server.config.websocket.websocket_compression
        try:
            self._upgrade = judge(self._asked[0], self._headers, compress)
        except Refused as error:
            refusal = server.answer_of_ours(error.status, lines=error.lines)
            asked = zip(("method", "path", "raw_path", "query_string"), self._asked, strict=True)
            scope = self.template | dict(asked) | {"headers": self._headers}
            server.refused(error.status, len(refusal), scope)
            self.write(refusal)
            self.close()
            return
        self.is_full = True  # no frame is looked at before the app has accepted
        if data:
            self._read(data)
        session = self.session = Session(self, self._scope(), self._now)
        task = server.spawn(session.run())
        if not task.done():
            session.task = task
            server.tasks.add(task)
            if session.stage is WAITING:
                server.running[session] = None

    def _scope(self) -> Scope:
        scope = self.template.copy()
        del scope["method"]
        scope["type"] = "websocket"
        scope["scheme"] = "wss" if scope["scheme"] == "https" else "ws"
        _, scope["path"], scope["raw_path"], scope["query_string"] = self._asked
        scope["headers"] = self._headers
        scope["state"] = self.server.state.copy()
        scope["extensions"] = over_websocket(scope["extensions"])
        scope["subprotocols"] = self._upgrade.subprotocols
        if self.server.access is not None:
            self.server.access.names.give(scope)
        self.server.hear(scope, self.trusted)
        return scope

    def accept(self, session: Session, subprotocol: str | None, judged: Judged) -> None:
        server = self.server
        lines = [server.lines_of_ours(judged.names), *judged.lines]
        data = switch(self._upgrade, subprotocol, lines)
        self.write(data)
        self.answered(session, len(data))
        self._deflate = self._upgrade.deflate
        interval = server.config.websocket.websocket_ping_interval
        if interval:
            self._next_ping = server.clock() + interval
        self._rest()
        if server.draining:
            self.drain_begins()
        self.more()

    # --- the transport's side

    def data_received(self, data: bytes) -> None:
        self.server.bytes_in += len(data)
        self._heard = True
        if self.is_closing:
            self._discarded += len(data)
            if self._discarded > LINGER_ROOM:
                self.abort()
        else:
            self._read(data)

    def _read(self, data: bytes) -> None:
        try:
            self.feed(data)
        except Violation as error:
            self._fail(error.status, error.message)
            return
        if self.is_full is not self._is_stopped and not self.is_closing:
            self._is_stopped = self.is_full
            if self.is_full:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()

    def eof_received(self) -> bool:
        """The client closed its side: no message of ours can be answered any more."""
        self._lose()
        self._buffer.clear()
        self.close()
        return False

    def connection_lost(self, error: Exception | None) -> None:
        self.is_closing = True
        if self._leaving is not None:
            self._leaving.cancel()
        self._lose()
        self._buffer.clear()
        self._wake_drains()
        self.server.closed(self)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._owed is not None:
            self.write(wire.pong(self._owed))
            self._owed = None
        if self._said_close:
            self._expect_close()
        elif not self.is_closing:
            self._rest()

    # --- the frames' side

    def on_message(self, data: str | bytes) -> None:
        if self.session is not None:
            self.session.arrived(data)

    def on_ping(self, data: bytes) -> None:
        if self.is_paused:
            self._owed = data  # only the last one needs an answer (RFC 6455 §5.5.3)
        else:
            self.write(wire.pong(data))

    def on_close(self, code: int, reason: str) -> None:
        if self.session is not None:
            self.session.hung_up(code, reason)
        if not self._said_close:
            self._say_close(code)
        self.close()

    # --- the session's side (`app.websocket.Socket`)

    def say(self, first: int, data: bytes) -> None:
        """Send a message: a whole frame, compressed where that is agreed on."""
        if self._deflate is not None:
            first, data = self.deflated(first, data)
        size = len(data)
        self.server.bytes_out += size
        if size < COPIED:
            self.write(head(first, size) + data)
        else:
            self.write_all([head(first, size), data])

    def more(self) -> None:
        """The app has taken all messages: read on."""
        if not self.is_closing:
            self.is_full = False
            self._read(b"")

    def hang_up(self, code: int, reason: str = "") -> None:
        """Begin the end (§7.1.2). Raises ValueError for what no close frame may have."""
        self._say_close(code, reason)
        self._expect_close()
        self.more()  # to see the client's close frame, whatever comes before it

    def answered(self, exchange: Exchange, size: int) -> None:
        """The handshake has its answer: 101, or one after which the connection ends."""
        server = self.server
        now = server.clock()
        server.bytes_out += size
        server.answers[exchange.status // 100] += 1
        server.latency[int((now - exchange.began) * 1e6).bit_length()] += 1
        if not server.is_dirty:
            server.mark_dirty(now)
        if server.access is not None:
            asked = {**exchange.scope, "method": self._asked[0]}
            server.access.add(asked, exchange.status, size, now - exchange.began)
        server.running.pop(exchange, None)
        if exchange.status != 101:
            self.close()

    def abandoned(self, exchange: Exchange, fresh: bool) -> None:
        """The app will not go on. `fresh`: the handshake has no answer yet."""
        if fresh:
            data = self.server.answer_of_ours(exchange.status)
            self.write(data)
            self.answered(exchange, len(data))
        elif self.is_open:
            self.hang_up(wire.FAILED if exchange.status == 500 else self._code)
        elif not self.is_closing:
            # Half a denial: a reset tells that it is cut.
            self.answered(exchange, exchange.sent)
            self._reset()

    def blame(self) -> None:
        """The app failed; it has been logged."""
        self.server.app_errors += 1

    def finished(self, exchange: Exchange) -> None:
        """The app returned."""
        if exchange.task is not None:
            self.server.tasks.discard(exchange.task)

    def head_of(self, status: int, without: Set[bytes] = frozenset()) -> bytes:
        return self.server.head_of(status, without)

    def refresh(self) -> None:
        self.server.refresh_if_due()

    def body_taken(self) -> None:
        """A handshake has no body."""

    def can_drain(self, exchange: Exchange) -> bool:
        return False

    # --- for the worker's life

    @property
    def is_open(self) -> bool:
        """Messages may go both ways."""
        accepted = self.session is not None and self.session.accepted
        return accepted and not self._said_close and not self.is_closing

    @property
    def _code(self) -> int:
        """Why clients are sent away: to come back at once, or nobody will be here."""
        return wire.GOING_AWAY if self.server.last else wire.RESTART

    def drain_begins(self) -> None:
        if not self.is_open:
            return  # a handshake is finished first, and then it is said again
        if self._leaving is not None:
            self._leaving.cancel()
        if self.server.last:
            self._leave()
        else:
            spread = max(0.0, self.server.leave_by - self.server.clock()) * SPREAD
            self._leaving = self.server.loop.call_later(spread * random.random(), self._leave)

    def _leave(self) -> None:
        if self.is_open:
            self.hang_up(self._code)

    def cancel(self) -> bool:
        task = self.session.task if self.session is not None else None
        return task is not None and task.cancel()

    def abort(self) -> None:
        super().abort()
        self._lose()

    # --- deadlines

    def overdue(self, now: float) -> None:
        if self._is_lingering:
            self.abort()
        elif self._said_close and not self._unsent and self._transport.get_write_buffer_size():
            self._expect_progress()
        elif self.is_closing or self.is_paused or self._said_close:
            self._judge_progress(now)
        else:
            self._keep_alive(now)

    def _keep_alive(self, now: float) -> None:
        """Send a ping, or give up a client that answered none.

        Anything that came is an answer: a pong cannot overtake a long frame. Nor can it be seen
        while we do not read.
        """
        settings = self.server.config.websocket
        if self._heard or self.is_full:
            self._unanswered = NEVER
        if now >= self._unanswered + settings.websocket_ping_timeout:
            self._fail(wire.FAILED, "a ping was not answered")
            return
        if now >= self._next_ping:
            self.write(wire.PING_FRAME)
            self._heard = False
            self._next_ping = now + settings.websocket_ping_interval
            self._unanswered = min(self._unanswered, now)
        self._rest()

    def _rest(self) -> None:
        """Set the deadline of an open WebSocket."""
        timeout = self.server.config.websocket.websocket_ping_timeout
        self.due = min(self._next_ping, self._unanswered + timeout)
        if self.due < self.booked:
            self.server.wheel.book(self)

    # --- the end

    def close(self) -> None:
        """End the connection once everything is sent."""
        if self.is_closing:
            return
        if self._buffer:  # unread bytes would reset it, and take our answer along
            self._linger()
            return
        self.is_closing = True
        self._transport.close()
        self._expect_progress()

    def _expect_close(self) -> None:
        """From now on the client has to answer our close frame, unless it has not even got it."""
        self._unsent = 0
        self._wait(FAREWELL)

    def _fail(self, code: int, reason: str) -> None:
        """Fail the connection (§7.1.7): say why, and look at nothing more."""
        if not self._said_close:
            self._say_close(code, reason)
        self._linger()

    def _linger(self) -> None:
        """The client may still be sending: let it have what we said before the connection goes."""
        self.is_closing = self._is_lingering = True
        self._buffer.clear()
        if self._is_stopped:
            self._transport.resume_reading()
        if self._transport.can_write_eof():
            self._transport.write_eof()
        self._wait(LINGER)

    def _say_close(self, code: int, reason: str = "") -> None:
        self.write(wire.close(code, reason))
        self._said_close = True
        if self.session is not None:
            self.session.hung_up(code, reason)

    def _lose(self) -> None:
        """No close frame will come any more."""
        if self.session is not None:
            self.session.hung_up(wire.LOST, "")
            self.server.running.pop(self.session, None)
