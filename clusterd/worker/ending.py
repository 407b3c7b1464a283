"""How a connection ends: deadlines, refusals, the last answer, and its hand-over to a sibling.

Nothing is cut off that the client may still want: a connection whose client is still sending is
shut on our side first and read for a moment, since closing it with bytes unread would reset it and
take our answer along.
"""

import os

from clusterd.app.exchange import ENDED, STREAMING, Exchange
from clusterd.core.errors import PeerError
from clusterd.wire.request import Reader
from clusterd.worker.deadlines import NEVER
from clusterd.worker.link import SLOTS, Link, Origin
from clusterd.worker.memory_budget import ALLOWANCE, size_of
from clusterd.worker.server import RETRY, Server

LINGER = 2.0  # seconds in which a client may take our last answer while it is still sending
LINGER_ROOM = 1024 * 1024  # bytes thrown away meanwhile
BODY_ROOM = 64 * 1024  # bytes of body that wait for the app before reading is paused

NOTHING = memoryview(b"")


class Ending(Reader, Link):
    """The part of a connection that is about its end. `Connection` is the whole."""

    __slots__ = (
        *SLOTS,
        "_came",
        "_discarded",
        "_fresh",
        "_held",
        "_is_lingering",
        "_is_serving",
        "_is_stopped",
        "_late",
        "_peer_ended",
        "_requests_left",
        "exchange",
    )

    def __init__(self, server: Server, origin: Origin | None = None) -> None:
        Reader.__init__(self, server.limits)
        Link.__init__(self, server, origin)
        self.exchange: Exchange | None = None  # being answered, or its body still being read
        self._held = b""  # read, not parsed
        self._late = NOTHING  # the same of a chunked body, of which others' turn came first
        self._requests_left = 0 if server.draining else server.requests_each
        self._is_serving = False
        self._is_stopped = False  # reading is paused, by us
        self._peer_ended = False
        self._is_lingering = False
        self._discarded = 0
        self._came = 0  # bytes of the body since its deadline was last set
        self._fresh = 0  # bytes that came since the memory budget asked what we hold

    # --- for the worker's life

    @property
    def idle(self) -> bool:
        """Kept alive with nothing in hand: no request begun, nothing read, nothing to be sent."""
        return not (
            self.exchange is not None
            or self._held
            or self.is_parsing
            or self.is_closing
            or self.is_paused
            or self._peer_ended
            or self._transport.get_write_buffer_size()
        )

    @property
    def spare(self) -> bool:
        """Silent, idle, or with half a head; or all was said, and what comes is thrown away."""
        return self._is_lingering or not (
            self.exchange is not None
            or self._held
            or self.is_paused
            or self._transport.get_write_buffer_size()
        )

    def release(self) -> int | None:
        """Let go of an idle connection: its descriptor, or None if it is not idle after all.

        The client notices nothing: the descriptor is a copy, so closing ours sends no FIN, and what
        the client sends meanwhile waits in the kernel. What a PROXY header said of the client would
        be lost with us, so such a connection stays.
        """
        if not self.idle or self._origin is not None:
            return None
        self._transport.pause_reading()
        try:
            fd = os.dup(self.fileno())
        except OSError:  # out of descriptors
            self._transport.resume_reading()
            return None
        self.is_closing = self._keeps_socket = True
        self._transport.abort()
        return fd

    def drain_begins(self) -> None:
        """The next answer, and the one in hand if its head is not sent yet, closes.

        Where a head has promised to keep the connection, a close would meet the next request on
        its way: after that answer it is as good as any idle connection.
        """
        self._requests_left = 0
        if self.exchange is not None and self.exchange.stage is not STREAMING:
            self.exchange.keeps = False

    def close_when_idle(self) -> None:
        """Close now if idle, else after the answer in hand."""
        if self.idle:
            self.close()
        else:
            self.drain_begins()

    def cancel(self) -> bool:
        """Cancel the app's task; whether there was one."""
        task = self.exchange.task if self.exchange is not None else None
        return task is not None and task.cancel()

    # --- for the memory budget

    def measure(self) -> int:
        size = super().measure() + len(self._head) + len(self._held)
        if self._late:  # all of what came is kept until its last piece is read
            size += memoryview(self._late.obj).nbytes
        exchange = self.exchange
        if exchange is not None:
            size += exchange.waiting + size_of(exchange.scope["headers"])
        return size

    @property
    def awaits_client(self) -> bool:
        exchange = self.exchange
        return self.is_paused or exchange is None or not exchange.complete

    def hold_off(self) -> None:
        if not self._is_lingering:
            self._stop_reading()

    def go_on(self) -> None:
        exchange = self.exchange
        is_full = exchange is not None and len(exchange.body) > BODY_ROOM
        if not (self._held or is_full or self.is_closing):
            self._go_on_reading()

    def shed(self) -> None:
        """Give up what is held: with 413 for a body, 503 for the rest, where that can be said."""
        exchange = self.exchange
        if self.is_closing or self.is_paused:
            self._reset()
        elif self.idle:
            if self.measure() > ALLOWANCE:  # which TLS has grown to
                self.close()
        elif exchange is not None and not exchange.complete:
            self._refuse(PeerError(413, "the request body does not fit the memory budget"))
        else:
            self._refuse(PeerError(503, "the request does not fit the memory budget"))

    # --- deadlines

    def overdue(self, now: float) -> None:
        """The wheel found our deadline passed."""
        self._now = now
        exchange = self.exchange
        if self.is_closing or self.is_paused:
            self._judge_progress(now)
        elif exchange is not None:
            self.due = NEVER
            if not exchange.complete:
                self._refuse(PeerError(408, "the request body makes no progress"))
        elif self.is_parsing:
            self._refuse(PeerError(408, "the request head came too slowly"))
        elif self._transport.get_write_buffer_size():
            self.abort()  # the last answer was never taken
        else:
            self.close()

    def _judge_progress(self, now: float) -> None:
        if self._is_lingering:
            self.abort()
        else:
            super()._judge_progress(now)

    # --- closing

    def close(self) -> None:
        """End the connection once everything is sent."""
        if self.is_closing:
            return
        self.is_closing = True
        if (self.is_parsing or self._held) and not self._peer_ended:
            self._linger()
            return
        self._transport.close()
        self._expect_progress()

    def _linger(self) -> None:
        """The client is still sending: let it have our answer before the connection goes."""
        self._is_lingering = True
        self._held, self._late = b"", NOTHING
        self._head = bytearray()
        if self._transport.can_write_eof():
            self._transport.write_eof()
        self._go_on_reading()
        self._wait(LINGER)

    def _discard(self, data: bytes) -> None:
        """Something came after our last answer."""
        self._discarded += len(data)
        if self._discarded > LINGER_ROOM:
            self.abort()

    def _refuse(self, error: PeerError, read: bytes = b"") -> None:
        """Answer what is no proper request, and close. None before it is unanswered.

        `read` is what came last; of a torn head, the reader has what came before.
        """
        exchange = self.exchange
        if exchange is not None:
            stage = exchange.stage  # a WSGI exchange that is left ends by that
            self._let_go(exchange)
            if stage is STREAMING:
                self._reset()
                return
            if stage is ENDED:
                self.close()
                return
        data = self.server.answer_of_ours(error.status, lines=RETRY if error.status == 503 else b"")
        scope = self.template if exchange is None else exchange.scope
        self.server.refused(error.status, len(data), scope, self.begun or read)
        self.write(data)
        self.is_parsing = True  # what follows means nothing, but may be on its way
        self.close()

    def _let_go(self, exchange: Exchange) -> None:
        """The request in hand cannot be completed: its app is told, and its answer goes nowhere."""
        exchange.leave(gone=True)
        self.server.running.pop(exchange, None)
        self.exchange = None

    def _stop_reading(self) -> None:
        self._is_stopped = True
        self._transport.pause_reading()

    def _go_on_reading(self) -> None:
        is_held_up = self._peer_ended or bool(self._late) or self in self.server.memory.stopped
        if self._is_stopped and not is_held_up:
            self._is_stopped = False
            self._transport.resume_reading()
