"""One HTTP/2 connection: bytes from the transport to the engine, its streams' requests to the app.

Requests begin after all that came was read, and what they answer in that turn goes out as one
write.
"""

import asyncio
import functools
import logging
from collections.abc import Set
from typing import Any

from clusterd.app.exchange import ENDED, STARTED, Exchange
from clusterd.app.extensions import without_zero_copy
from clusterd.app.http2 import AsgiHttp2, WsgiHttp2
from clusterd.core.errors import PeerError
from clusterd.wire.http2 import NO_ERROR, Broken, Engine
from clusterd.wire.http2_fields import length_field, literal, status_field
from clusterd.wire.http2_head import Head
from clusterd.wire.request import BODYLESS
from clusterd.wire.tables import REASONS
from clusterd.worker.http2_ending import NOTHING, Http2Ending
from clusterd.worker.http2_stream import Stream
from clusterd.worker.http2_windows import WIDEST
from clusterd.worker.identity import identified
from clusterd.worker.link import Link, Origin
from clusterd.worker.memory_budget import ALLOWANCE, PAIR
from clusterd.worker.server import Server
from clusterd.worker.turns import PIECE

logging.getLogger("hpack").setLevel(logging.INFO)  # else an app's DEBUG has it log every cookie

EXCHANGES: dict[str, type[Exchange]] = {"asgi": AsgiHttp2, "wsgi": WsgiHttp2}
UNREAD = 64 * 1024  # bytes that frames of the client's made us send while it does not read
TEXT = literal(b"content-type", b"text/plain")


def equip(server: Server, interface: str) -> None:
    """Have a server speak HTTP/2, with an app of this interface."""
    exchange = EXCHANGES[interface]
    if server.access is not None:
        exchange = identified(exchange, server.access.names)
    server.spoken["h2"] = functools.partial(Http2Connection, exchange)


class Http2Connection(Http2Ending):
    """Takes over from TLS, where the client chose h2, or from HTTP/1 at HTTP/2's preface."""

    __slots__ = (
        "_exchange",
        "_fresh",
        "_has_room",
        "_heads_until",
        "_most",
        "_requests_left",
        "_uncounted",
        "_unread",
        "app",
        "blocked",
        "heads",
    )

    def __init__(
        self, exchange: type[Exchange], server: Server, origin: Origin | None = None
    ) -> None:
        super().__init__(server, origin)
        self.app = server.app
        self.heads: dict[tuple[Any, ...], tuple[bytes, int]] = {}  # as `server.heads`
        self._heads_until = 0.0
        self._exchange = exchange
        self._most = server.http.http2_streams
        self.engine = Engine(server.limits, self._most, self)
        self.blocked = {}
        self._fresh: list[Stream] = []  # begun, and not told to the app yet
        # As many as the HTTP/1 connections that it stands for.
        self._requests_left = server.requests_each * self._most
        self._has_room = False  # windows were opened since we last looked
        self._unread = 0
        self._uncounted = 0  # bytes that came since the memory budget asked what we hold

    # --- the transport's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.greet(transport)
        self.server.opened(self)
        self._begin()

    def taken_over(self, before: Link, data: bytes) -> None:
        super().taken_over(before, data)
        self._begin()
        if data:
            self.data_received(data)

    def _begin(self) -> None:
        self.template["http_version"] = "2"
        self.template["extensions"] = without_zero_copy(self.template["extensions"])
        self.send_now()
        self._head_by = self.server.clock() + self.server.http.header_timeout
        self._idle_by = self.server.clock() + self.server.keep_alive
        self._rest()
        if self.server.draining:
            self.drain_begins()

    def data_received(self, data: bytes) -> None:
        server = self.server
        self._now = now = server.clock()
        server.bytes_in += len(data)
        if self.is_closing:
            self._discard(data)
        elif now >= server.turns.look_by or len(data) > PIECE or self.later:
            self._receive(data)
        else:
            self._work_off(data)

    def _receive(self, data: bytes) -> None:
        """The long way: much came, or it is time to look at how long this turn takes."""
        self.later = memoryview(bytes(self.later) + data if self.later else data)
        turns, is_waiting = self.server.turns, True
        while is_waiting and not turns.is_used_up(self.server.clock()):
            is_waiting = self._take_piece()
        if is_waiting:
            self._transport.pause_reading()
            turns.wait(self)
            self._rest()
        if not self.is_closing:
            self.server.memory.count(self)

    @property
    def has_little(self) -> bool:
        return len(self.later) <= PIECE

    def advance(self) -> bool:
        """Work off a piece of what waits; return whether there is more (`turns.Turns`)."""
        if not self.later:
            return False  # the connection ended meanwhile
        self._now = self.server.clock()
        if self._take_piece():
            return True
        if not self.is_closing:
            self._transport.resume_reading()
            self.server.memory.count(self)
        return False

    def _take_piece(self) -> bool:
        piece, self.later = self.later[:PIECE], self.later[PIECE:]
        self._work_off(bytes(piece))
        if self.is_closing or not self.later:
            self.later = NOTHING  # an empty rest would keep all of it
            return False
        return True

    def _work_off(self, data: bytes) -> None:
        self.refresh()
        self._is_busy = True
        try:
            self.engine.feed(data, self._now)
        except Broken as error:
            self._break(error)
        else:
            if self.is_paused:
                self._count_unread()
            self._serve()
        self._is_busy = False
        self.send_now()
        if self.engine.parted and not self.streams:
            self.close()
        self._rest()
        self._uncounted += len(data)
        # So each piece that waited counts (`PIECE`): hundreds of connections may have one at once.
        if self._uncounted >= ALLOWANCE and not self.is_closing:
            self._uncounted = 0
            self.server.memory.count(self)

    def _count_unread(self) -> None:
        """Frames that want an answer, from a client that reads none, must not pile up."""
        output = self.engine.output()
        self._unread += len(output)
        if self._unread > UNREAD:
            self.abort()
        else:
            self.write(output)

    def eof_received(self) -> bool:
        """The client closed its side. Most have left; some wait for their answers."""
        self._peer_ended = True
        if self.is_closing or not self.streams:
            return False
        for stream in list(self.streams.values()):
            stream.exchange.leave(gone=False)
        return True

    def connection_lost(self, error: Exception | None) -> None:
        self.is_closing = self._is_busy = True
        for stream in list(self.streams.values()):
            stream.cancel()
        self._wake_drains()
        self.later = NOTHING
        self.server.windows.forget(self)
        self.server.closed(self)
        self.engine.forget()

    def pause_writing(self) -> None:
        self._unread = 0
        super().pause_writing()

    def resume_writing(self) -> None:
        super().resume_writing()
        if not self.is_closing:
            self._pump()
            self.send_now()
            self._rest()

    # --- the engine's side

    def on_request(self, stream: int, head: Head) -> None:
        in_flight = len(self.streams) + self._cancelled
        if in_flight >= self._most or self._is_final or (in_flight and self._is_crowded):
            self.engine.refuse(stream)
            return
        memory = self.server.memory
        if memory.is_over:
            self.refuse(stream, PeerError(503, "the memory budget is used up"))
            return
        if memory.is_short and (head.size > ALLOWANCE or self.is_held_off):
            self.engine.refuse(stream)
            return
        scope = self.template.copy()
        scope["method"], scope["path"], scope["raw_path"], scope["query_string"] = head.asked
        scope["headers"] = head.headers.copy()
        scope["state"] = self.server.state.copy()
        scope["extensions"] = scope["extensions"].copy()
        made = self.streams[stream] = Stream(self, stream)
        made.size = size = head.size + PAIR * len(head.headers)
        self._uncounted += size  # compressed, it was less that came
        made.exchange = exchange = self._exchange(made, scope, self._now, True)
        if head.told:
            self.server.hear(scope, self.trusted)
        if head.length != BODYLESS:
            exchange.complete = False
            exchange.expects = head.expects
            made.await_body()
        self._fresh.append(made)
        self._requests_left -= 1
        if self._requests_left == 0:
            self.drain_begins()

    @property
    def _is_crowded(self) -> bool:
        """Return whether the worker has as many requests in flight as HTTP/1 could have.

        Each connection may have one all the same.
        """
        server = self.server
        in_flight = len(server.running) + server.cancelled + len(self._fresh)
        return in_flight >= server.http.max_connections

    def on_refused(self, stream: int, error: PeerError) -> None:
        made = self.streams.get(stream)
        if made is not None:
            made.refuse(error)
        else:
            self.refuse(stream, error)

    def on_body(self, stream: int, data: bytes, credit: int) -> None:
        made = self.streams.get(stream)
        if made is not None:
            made.add_body(data, credit)
            if self.engine.is_narrow:
                self.widen()
        else:
            self.give_back(stream, credit)

    def widen(self) -> None:
        """Let the client send more at once, if it has filled its window and memory allows it."""
        if self.engine.is_narrow and not self.is_closing:
            size = self.engine.window
            more = self.server.windows.grant(self, size) if size < WIDEST else 0
            if more:
                self.engine.widen(more)
                self.send_soon()

    def give_back(self, stream: int, credit: int) -> None:
        """The app has taken of a body: let the client send as much again."""
        self.engine.taken(stream, credit, self.server.windows.reclaim(self, credit))

    def on_end(self, stream: int) -> None:
        made = self.streams.get(stream)
        if made is not None:
            made.end_body()

    def on_gone(self, stream: int) -> None:
        made = self.streams.get(stream)
        if made is not None:
            made.cancel()

    def on_room(self, stream: int) -> None:
        self._has_room = True

    # --- serving

    def _serve(self) -> None:
        """Let the app have what has come, and the streams what room there is."""
        fresh, self._fresh = self._fresh, []
        for stream in fresh:
            if not (stream.is_over or self.is_closing):
                self._run(stream.exchange)
        if self._has_room:
            self._pump()

    def _run(self, exchange: Exchange) -> None:
        server = self.server
        task = server.spawn(exchange.run())
        if not task.done():
            exchange.task = task
            server.tasks.add(task)
        if exchange.stage is not ENDED:
            server.running[exchange] = None
            if exchange.stage is STARTED:
                server.begins(exchange)

    def pump_soon(self) -> None:
        """See what windows and transport take once others had their turn of the loop."""
        if not self._has_room and not self._is_busy:
            self.server.loop.call_soon(self._pump)
        self._has_room = True

    def _pump(self) -> None:
        """Send what windows and transport take, each stream in turn."""
        is_busy, self._is_busy = self._is_busy, True
        moved = not self.is_closing
        while moved and not self.is_paused:
            moved = False
            for stream in list(self.blocked):
                if stream.pump():
                    moved = True
            self.write_out()
        self._is_busy, self._has_room = is_busy, False

    # --- the streams' side

    def forget(self, stream: Stream) -> None:
        """A stream is over."""
        del self.streams[stream.number]
        self.blocked.pop(stream, None)
        self.server.wheel.forget(stream)
        exchange = stream.exchange
        if exchange.stage is not ENDED:
            self.server.running.pop(exchange, None)
            if exchange.task is not None:
                # It counts until the app is through: what is cancelled at once is begun as fast.
                stream.is_cancelled = True
                self._cancelled += 1
                self.server.cancelled += 1
        del stream.exchange  # each holds the other: but for this only the collector would free them
        if not self.streams and not self.is_closing:
            self._idle_by = self.server.clock() + self.server.keep_alive
            self._end_if_done()
            self._rest()

    def finished(self, stream: Stream, exchange: Exchange) -> None:
        """The app returned, in a task that outlived the turn it began in."""
        if stream.is_cancelled:
            stream.is_cancelled = False
            self._cancelled -= 1
            self.server.cancelled -= 1
        if exchange.task is not None:
            self.server.tasks.discard(exchange.task)

    def answered(self, exchange: Exchange, size: int) -> None:
        """The answer is complete, as far as the app is concerned."""
        self._now = self.server.clock()
        self.server.answered(exchange, exchange.scope, size, self._now)

    def refresh(self) -> None:
        """A new second: heads are made with its date."""
        self.server.refresh_if_due()
        if self._heads_until != self.server.date_due:
            self._heads_until = self.server.date_due
            self.heads.clear()

    def head_of(self, status: int, without: Set[bytes] = frozenset()) -> bytes:
        """The status, Date and Server, less those that the app sends itself."""
        lines = self.server.lines_of_ours(without).split(b"\r\n")[:-1]
        pairs = [line.split(b": ", 1) for line in lines]
        return status_field(status) + b"".join([literal(name, value) for name, value in pairs])

    def answer_of_ours(self, stream: int, status: int, method: str = "GET") -> int:
        """Send a whole answer without the app; its bytes."""
        body = f"{status} {REASONS[status]}\n".encode()
        head = self.head_of(status) + TEXT + length_field(len(body))
        if method == "HEAD" or self.engine.room(stream) < len(body):
            self.engine.head(stream, self.head_of(status), end=True)
            return len(head)
        self.engine.head(stream, head, end=False)
        self.engine.data(stream, body, end=True)
        return len(head) + len(body)

    def refuse(self, stream: int, error: PeerError) -> None:
        """Answer what is no proper request."""
        size = self.answer_of_ours(stream, error.status)
        if self.engine.is_open(stream):
            self.engine.reset(stream, NO_ERROR)
        self.server.refused(error.status, size, self.template)
        self.send_soon()
