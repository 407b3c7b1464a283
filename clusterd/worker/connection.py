"""One connection: bytes from the transport to the reader, requests to the app, answers back.

Requests of one connection are answered one after another. While one is being answered, at most one
chunk of what follows is held, unparsed, and reading is paused. The short way (a small chunk that
holds whole requests, an app that answers without waiting) makes no object beyond the exchange and
its task, sets no timer and writes once.
"""

import asyncio
from collections.abc import Set

from clusterd.app.exchange import ENDED, STARTED, Exchange
from clusterd.core.errors import PeerError
from clusterd.wire.heads import PREFACE, Asked, Pair, Preface
from clusterd.wire.request import BODYLESS, END
from clusterd.worker.deadlines import NEVER, RATE
from clusterd.worker.ending import BODY_ROOM, NOTHING, Ending
from clusterd.worker.link import Link, Origin
from clusterd.worker.memory_budget import ALLOWANCE
from clusterd.worker.server import Server
from clusterd.worker.websocket import WebSocket

DRAINED = 64 * 1024  # bytes of an unread body worth reading to keep the connection
# Bytes of a chunked body that are read in one go, at most. Where a client cuts it into chunks of
# one byte each, they take 6 ms.
PIECE = 64 * 1024


class Connection(Ending):
    """Built as `Connection(server)`, then attached to an accepted socket by the loop."""

    __slots__ = ("_heir", "app", "begins", "heads")

    def __init__(self, server: Server, origin: Origin | None = None) -> None:
        super().__init__(server, origin)
        self._heir: WebSocket | None = None  # what the client asked to go on with
        self.app = server.app
        self.heads = server.heads
        self.begins = server.begins  # no method of ours: before 3.12 each response calls it

    # --- the transport's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.greet(transport)
        self.server.opened(self)
        self._wait(self.server.http.header_timeout)

    def taken_over(self, before: Link, data: bytes) -> None:
        super().taken_over(before, data)
        self._wait(self.server.http.header_timeout)
        if data:
            self.data_received(data)

    def data_received(self, data: bytes) -> None:
        server = self.server
        self._now = now = server.clock()
        size = len(data)
        server.bytes_in += size
        if self.exchange is not None or self.is_parsing or self.is_closing or size > ALLOWANCE:
            self._receive(data)
            return
        if now >= server.date_due:
            server.refresh(now)
        try:
            rest = self.read(data)
        except PeerError as error:
            self._refuse(error, data)
            return
        if rest:
            self._hold(rest)
        if self.exchange is not None:
            self._serve()
        elif self.is_parsing:
            self._wait(server.http.header_timeout)
        elif self._heir is not None:
            self._bequeath(self._heir)

    def eof_received(self) -> bool:
        """The client closed its side. Most have left; some wait for their answer."""
        self._peer_ended = True
        exchange = self.exchange
        if exchange is None or self.is_closing:
            return False
        exchange.leave(gone=False)
        return True

    def connection_lost(self, error: Exception | None) -> None:
        self.is_closing = True
        if self.exchange is not None:
            self._let_go(self.exchange)
        self._held, self._late = b"", NOTHING
        self._wake_drains()
        self.server.closed(self)

    def resume_writing(self) -> None:
        super().resume_writing()
        if not self.is_closing:
            self._now = self.server.clock()
            self.due = NEVER  # it was that of the answer
            self._rest()
            if self._held:
                self._take_up()

    def _take_up(self) -> None:
        """Go on with what was held while the client did not take what it was sent."""
        exchange = self.exchange
        if exchange is None:
            self._advance()
        elif not exchange.complete:  # it is more of the body
            held, self._held = self._held, b""
            self._take_in(held)
            self.go_on()

    # --- the reader's side

    def on_request(self, asked: Asked, headers: list[Pair], length: int) -> None:
        server = self.server
        scope = self.template.copy()
        scope["method"], scope["path"], scope["raw_path"], scope["query_string"] = asked
        scope["headers"] = headers
        scope["state"] = server.state.copy()
        scope["extensions"] = scope["extensions"].copy()
        self._requests_left = left = self._requests_left - 1
        exchange = server.exchange(self, scope, self._now, self.keeps and left > 0)
        if self.old:
            scope["http_version"] = "1.0"
            exchange.old = True
        if length != BODYLESS:
            exchange.complete = False
            exchange.expects = self.expects
            self._came = 0
            self.due = NEVER
        self.exchange = exchange

    def on_upgrade(self, asked: Asked, headers: list[Pair]) -> None:
        if self.server.exchange.interface == "ASGI":
            self._heir = WebSocket(self.server, asked, headers)
        else:
            super().on_upgrade(asked, headers)

    def on_told(self) -> None:
        if self.exchange is not None:
            self.server.hear(self.exchange.scope, self.trusted)

    def on_body_part(self, data: bytes) -> None:
        exchange = self.exchange
        self._came += len(data)
        if exchange is not None and exchange.stage is not ENDED:
            exchange.add_body(data)

    def on_request_end(self) -> None:
        if self.exchange is not None:
            self.exchange.end_body()

    def _refuse(self, error: PeerError, read: bytes = b"") -> None:
        """What is no request of HTTP/1 may be the beginning of HTTP/2 (RFC 9113 §3.3), where that
        is spoken, but only as the first that comes, and under TLS only where both chose it."""
        speak = self.server.spoken.get("h2")
        is_first = self._requests_left in (self.server.requests_each, 0)
        is_plain = self.template["scheme"] == "http"
        if isinstance(error, Preface) and speak is not None and is_first and is_plain:
            self.succeed(speak(self.server, self._origin), PREFACE + END + error.rest)
        else:
            super()._refuse(error, read)

    # --- serving

    def _receive(self, data: bytes) -> None:
        """The long way: a chunk that is large, or comes while something is in hand."""
        if self.is_closing:
            self._discard(data)
            return
        if self._late or (self._chunks is not None and len(data) > ALLOWANCE):
            self._take_in_turns(data)
        else:
            self._take_in(data)
        self._fresh += len(data)
        if (self._fresh > ALLOWANCE or self.held) and not self.is_closing:
            self._fresh = 0
            self.server.memory.count(self)

    def _take_in_turns(self, data: bytes) -> None:
        """Read much of a chunked body in pieces: chunks of one byte cost 40,000 lines in 256 KiB.

        The loop reads more than that of each connection in one turn, in which no other client is
        served. What remains waits, and nothing more is read meanwhile.
        """
        is_waiting = bool(self._late)
        self._late = memoryview(bytes(self._late) + data if is_waiting else data)
        turns = self.server.turns
        while not is_waiting and self._late and not turns.is_used_up(self.server.clock()):
            self._take_piece()
        if self._late and not is_waiting:
            self._stop_reading()
            turns.wait(self)

    @property
    def has_little(self) -> bool:
        return len(self._late) <= PIECE

    def advance(self) -> bool:
        """Read a piece of what waits; return whether there is more (`turns.Turns`)."""
        if self._late and not self.is_closing:
            self._now = self.server.clock()
            self._take_piece()
            if not self._late and not self.is_closing:
                self.go_on()
        return bool(self._late) and not self.is_closing

    def _take_piece(self) -> None:
        """Read a piece of a chunked body, and with its last one all that follows."""
        late, self._late = self._late, NOTHING
        if self.is_paused:
            self._hold(self._held + late)
            return
        self._late = late[PIECE:] or NOTHING  # an empty rest would keep all of it
        self._take_in(bytes(late[:PIECE]))
        if self._late and self._chunks is None and not self.is_closing:
            late, self._late = self._late, NOTHING
            self._take_in(bytes(late))

    def _take_in(self, data: bytes) -> None:
        exchange = self.exchange
        if (exchange is not None and exchange.complete) or self.is_paused:
            self._hold(self._held + data)
            return
        self.server.refresh_if_due()
        self._parse(data)
        if self._is_serving or self.is_closing:
            return
        if exchange is None and self.exchange is not None:
            self._serve()
        elif exchange is not None:
            self._body_came(exchange)
        elif self.due > self._now + self.server.http.header_timeout:
            self._wait(self.server.http.header_timeout)

    def _parse(self, data: bytes) -> None:
        """Parse at most to the end of a request and hold the rest."""
        try:
            rest = self.feed(data)
        except PeerError as error:
            self._refuse(error, data)
            return
        if rest:
            self._hold(rest)
        if self._heir is not None:
            self._bequeath(self._heir)

    def _bequeath(self, heir: WebSocket) -> None:
        """HTTP ends here: what follows is a WebSocket's."""
        held, self._held, self._late = self._held + self._late, b"", NOTHING
        self._go_on_reading()
        if self._peer_ended:
            self.close()  # nobody is there to talk to
        else:
            self.succeed(heir, held)

    def _hold(self, data: bytes) -> None:
        """Keep what came too early, unparsed; no more is read until its turn comes."""
        self._held = data
        self._stop_reading()

    def _body_came(self, exchange: Exchange) -> None:
        """A piece of the body of the request in hand."""
        if exchange.stage is ENDED and exchange.complete:
            self._advance()
        else:
            self._rest()

    def _serve(self) -> None:
        """Answer what is in hand, as long as apps answer at once."""
        server = self.server
        self._is_serving = True
        while (exchange := self.exchange) is not None:
            if server.memory.is_over:
                self._refuse(PeerError(503, "the memory budget is used up"))
                break
            task = server.spawn(exchange.run())
            if not task.done():
                exchange.task = task
                server.tasks.add(task)
            if exchange.stage is not ENDED:
                server.running[exchange] = None
                if exchange.stage is STARTED:
                    server.begins(exchange)
                break
            if not exchange.complete:
                break
            if (
                not self._held
                and not self._is_stopped
                and not self.is_closing
                and not self.is_paused
                and not self._peer_ended
            ):
                # The usual end, as `_next` and `_rest` would have it, without the calls.
                self.exchange = None
                self._is_serving = False
                self.due = due = self._now + server.keep_alive
                if due < self.booked:
                    server.wheel.book(self)
                return
            if not self._next():
                break
        self._is_serving = False
        self._rest()

    def _next(self) -> bool:
        """Turn to the next request, if one is at hand and may begin."""
        self.exchange = None
        if self.is_closing:
            return False
        if self.is_paused:
            return False  # who does not read answers gets no more of them
        while self._held and self.exchange is None and not self.is_closing:
            held, self._held = self._held, b""
            self._now = self.server.clock()
            self._parse(held)
        if self._is_stopped and not self._held:
            self._go_on_reading()
        if self.exchange is None and self._peer_ended:
            self.close()
        return self.exchange is not None

    def _advance(self) -> None:
        """Go on after an answer that came later than its request."""
        if not self._is_serving and not self.is_closing:
            if self._next():
                self._serve()
            else:
                self._rest()

    def _rest(self) -> None:
        """Set the deadline that belongs to where we are."""
        http = self.server.http
        exchange = self.exchange
        if self.is_closing or self.is_paused:
            return
        if exchange is None:
            due = self._now + (http.header_timeout if self.is_parsing else http.keep_alive)
        elif exchange.complete:
            due = NEVER
        else:
            due = self._rest_in_body(exchange)
        self.due = due
        if due < self.booked:
            self.server.wheel.book(self)

    def _rest_in_body(self, exchange: Exchange) -> float:
        if exchange.stage is ENDED:
            exchange.body = b""  # nobody wants it: the rest is read to keep the connection
            self._go_on_reading()
        elif len(exchange.body) > BODY_ROOM:
            self._stop_reading()
            return NEVER  # it waits for the app, not for the client
        # What comes puts the deadline off as far as its size is worth, and never beyond the time
        # that a body may stand still. Lines between chunks are worth nothing.
        came, self._came = self._came, 0
        return min(self.due + came / RATE, self._now + self.server.http.body_timeout)

    # --- the exchange's side (`app.asgi.Peer`)

    def answered(self, exchange: Exchange, size: int) -> None:
        """The answer is complete, as far as the app is concerned."""
        server = self.server
        self._now = now = server.clock()
        server.bytes_out += size
        server.answers[exchange.status // 100] += 1
        took = now - exchange.began
        server.taken += took
        server.latency[int(took * 1e6).bit_length()] += 1
        if not server.is_dirty:
            server.mark_dirty(now)
        if server.access is not None:
            server.access.add(exchange.scope, exchange.status, size, took)
        if exchange.task is not None:
            server.running.pop(exchange, None)
        if not exchange.keeps:
            self.close()
        elif not self._is_serving:
            if exchange.complete:
                server.loop.call_soon(self._advance)
            elif exchange is self.exchange:
                self._rest()

    def abandoned(self, exchange: Exchange, fresh: bool) -> None:
        """The app will not end this answer. `fresh`: nothing of it was sent."""
        if fresh:
            has_body = exchange.scope["method"] != "HEAD"
            data = self.server.answer_of_ours(exchange.status, has_body)
            self.write(data)
            self.answered(exchange, len(data))
        else:
            # Where only the end of the connection ends the body, a reset tells that it is cut.
            self.answered(exchange, exchange.sent)
            self._reset()

    def blame(self) -> None:
        """The app failed; it has been logged."""
        self.server.app_errors += 1

    def finished(self, exchange: Exchange) -> None:
        """The app returned, in a task that outlived the turn it began in."""
        if exchange.task is not None:
            self.server.tasks.discard(exchange.task)

    def head_of(self, status: int, without: Set[bytes] = frozenset()) -> bytes:
        return self.server.head_of(status, without)

    def refresh(self) -> None:
        self.server.refresh_if_due()

    def body_taken(self) -> None:
        """The app took what was read of the body."""
        if self._is_stopped and not self.is_closing:
            self._now = self.server.clock()
            self._go_on_reading()
            self._rest()

    def can_drain(self, exchange: Exchange) -> bool:
        """Whether what is left of the body is little enough to read it and keep the connection."""
        return not self._peer_ended and not exchange.expects and 0 < self.body_left <= DRAINED
