"""One WebSocket's connection: from the handshake's request to the messages of both sides.

Reading stops while the app does not take messages, and the app waits while its client does not.
"""

from collections.abc import Set

from clusterd.app.exchange import WAITING, Exchange
from clusterd.app.extensions import over_websocket
from clusterd.app.http1 import COPIED
from clusterd.app.scope import Scope
from clusterd.app.websocket import Session
from clusterd.wire import websocket as wire
from clusterd.wire.heads import Asked, Pair
from clusterd.wire.response import Judged
from clusterd.wire.upgrade import Refused, Upgrade, judge, switch
from clusterd.wire.websocket import Violation, head
from clusterd.worker.deadlines import NEVER
from clusterd.worker.leftover import Leftover
from clusterd.worker.link import Link
from clusterd.worker.memory_budget import ALLOWANCE
from clusterd.worker.server import Server
from clusterd.worker.websocket_ending import FAREWELL, WebSocketEnding


class WebSocket(WebSocketEnding):
    """Takes over from the HTTP connection that read the handshake's request."""

    __slots__ = ("_asked", "_headers", "_owed", "_upgrade", "app", "heads")

    _upgrade: Upgrade

    def __init__(self, server: Server, asked: Asked, headers: list[Pair]) -> None:
        super().__init__(server)
        self.app = server.app
        self.heads = server.heads
        self._asked = asked
        self._headers = headers
        self._owed: bytes | None = None  # the last ping that came while the client did not read

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
            self._linger()  # its frames may be on their way already
            return
        self.is_full = True  # no frame is looked at before the app has accepted
        if data:
            self._read(data)
        session = self.session = Session(self, self._scope(), self._now)
        task = server.spawn(session.run())
        if not task.done():
            session.task = task
            server.tasks.add(task)
            # Besides `finished`: before 3.12 a task that is cancelled at once never begins.
            task.add_done_callback(server.tasks.discard)
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
        del self._upgrade  # which would keep what decompresses
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
        if self.is_closing or self._violation is not None:
            self._discard(data)
        else:
            self._read(data)

    def _read(self, data: bytes) -> None:
        try:
            self.feed(data)
        except Violation as error:
            self._break(error)
            return
        if self._buffer or self._message is not None or self.is_full or self.held:
            self._settle(len(data))
        elif self._message_by != NEVER:
            self._message_by = NEVER
        if self.is_full is not self._is_stopped and not self.is_closing:
            if self in self.server.memory.stopped:
                return  # it is read again when there is room
            self._is_stopped = self.is_full
            if self.is_full:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()

    def _break(self, error: Violation) -> None:
        """Fail the connection; if the app is busy, once it asks for more than it has.

        So what came before the violation gets its responses, also where one segment had both.
        """
        session = self.session
        if session is None or not session.accepted or session.is_waiting or self._said_close:
            self._fail(error.status, error.message)
            return
        # Without its traceback, whose frames keep what was read.
        self._violation = error.with_traceback(None)
        self._message = None
        self._deflate = None  # it has decompressed a part; what we send needs no compression
        self._buffer = bytearray()
        self.is_full = self._is_stopped = True
        self._transport.pause_reading()
        self._wait(FAREWELL)

    def eof_received(self) -> bool:
        """The client closed its side: no message of ours can be answered any more."""
        self._lose()
        self._buffer = bytearray()
        self.close()
        return False

    def connection_lost(self, error: Exception | None) -> None:
        self.is_closing = True
        if self._leaving is not None:
            self._leaving.cancel()
        self._lose()
        # The session knows us, too: without this only the collector would free us.
        session, self.session = self.session, None
        self._buffer = bytearray()
        self._message = self._deflate = None
        self._wake_drains()
        self.server.closed(self)
        if session is not None and session.waiting > ALLOWANCE:
            Leftover(session, self.server.memory).count()

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
        if self._violation is not None and not self.is_closing:
            self._fail(self._violation.status, self._violation.message)
        elif not self.is_closing:
            self.is_full = False
            self._read(b"")

    def answered(self, exchange: Exchange, size: int) -> None:
        """The handshake has its answer: 101, or one after which the connection ends."""
        server = self.server
        asked = {**exchange.scope, "method": self._asked[0]}
        server.answered(exchange, asked, size, server.clock())
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

    def begins(self, exchange: Exchange) -> None:
        self.server.begins(exchange)

    def body_taken(self) -> None:
        """A handshake has no body."""

    def can_drain(self, exchange: Exchange) -> bool:
        return False
