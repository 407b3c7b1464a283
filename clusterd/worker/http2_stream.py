"""One stream of an HTTP/2 connection: a request's body in, the pieces of its answer out.

What the client's windows do not take waits here, and the app with it; what the app does not take
of a body keeps its window closed. Both have their deadlines in the worker's wheel.
"""

import asyncio
from collections import deque
from collections.abc import Set
from typing import TYPE_CHECKING

from clusterd.app.exchange import ENDED, STREAMING, Exchange
from clusterd.core.errors import PeerError
from clusterd.wire.http2 import CALM, CANCEL, FRAME, INTERNAL_ERROR, NO_ERROR
from clusterd.worker.connection import DRAINED
from clusterd.worker.deadlines import NEVER, RATE

if TYPE_CHECKING:
    from clusterd.worker.http2 import Http2Connection

TURN = 256 * 1024  # bytes of one stream after which the connection's others get a turn
STREAM = 4096  # bytes of the objects of a request in flight: its stream, exchange, scope and task
WRITE = 64 * 1024  # bytes after which the transport is asked whether it wants more


class Stream:
    """An exchange's side of its connection (`app.http2.Http2Peer`)."""

    __slots__ = (
        "_body_by",
        "_came",
        "_credit",
        "_drains",
        "_has_ended",
        "_left_over",
        "_pending",
        "_received",
        "_send_by",
        "_sent",
        "_taken",
        "_trailers",
        "_will_end",
        "app",
        "booked",
        "due",
        "exchange",
        "heads",
        "is_cancelled",
        "is_over",
        "link",
        "number",
        "size",
        "trusted",
    )

    exchange: Exchange

    def __init__(self, link: "Http2Connection", number: int) -> None:
        self.link = link
        self.number = number
        self.size = 0  # bytes of the request's head
        self.app = link.app
        self.heads = link.heads
        self.trusted = link.trusted
        self._pending: deque[memoryview] = deque()  # of the answer, not sent yet
        self._will_end = False  # the answer ends with that,
        self._trailers = b""  # and these
        self._has_ended = False  # the end of the answer is sent
        self._sent = self._taken = 0  # bytes of the answer's body, now and when last looked at
        self._received = self._came = 0  # the same of the request's
        self._credit = 0  # bytes of window that the client gets back once the app takes the body
        self._left_over = 0  # bytes of a body that nobody wanted
        self._drains: list[asyncio.Future[None]] | None = None
        self._body_by = self._send_by = NEVER  # when something must have moved
        self.is_over = False  # nothing can be sent any more
        self.is_cancelled = False  # and the app has still to see that
        self.due = self.booked = NEVER

    # --- the client's side

    def await_body(self) -> None:
        """The client has more of the request's body to send, and the window for it."""
        self._came = self._received
        self._body_by = self.link.server.clock() + self.link.server.http.body_timeout
        self._watch()

    def add_body(self, data: bytes, credit: int) -> None:
        exchange = self.exchange
        if exchange.stage is not ENDED:
            self._credit += credit
            self._received += len(data)
            exchange.add_body(data)
            return
        self.link.give_back(self.number, credit)
        self._left_over += len(data)
        if self._left_over > DRAINED and self._has_ended:
            self.reset(NO_ERROR)  # RFC 9113 §8.1: the answer is complete without the rest

    def end_body(self) -> None:
        self._body_by = NEVER
        self.exchange.end_body()
        self._settle()

    def refuse(self, error: PeerError) -> None:
        """The request cannot be completed, by the client's fault: say so, if that can be said."""
        exchange = self.exchange
        stage = exchange.stage
        exchange.leave(gone=True)
        if stage < STREAMING:
            self.is_over = True
            self.link.refuse(self.number, error)
            self._forget()
        else:
            self.reset(NO_ERROR if self._has_ended else CANCEL)

    def cancel(self) -> None:
        """The stream was reset, or the connection is lost: the app is told, and sends no more."""
        if not self.is_over:
            self.is_over = True
            self.exchange.leave(gone=True)
            self._forget()

    # --- for the memory budget

    def measure(self) -> int:
        """Return the bytes that are held for the client, but of a large response only a part."""
        size = STREAM + self.size + self.exchange.waiting
        if self._pending:
            size += min(sum(map(len, self._pending)), self.link.server.memory.most_unsent)
        return size

    @property
    def awaits_client(self) -> bool:
        """Return whether the client has to take something, or may send more of the body.

        It may not while the app leaves its window full, nor do we know while what came is unread.
        """
        return bool(self._pending) or (not self.link.later and self.link.engine.awaits(self.number))

    def shed(self) -> None:
        """Give up what is held: with 413 for a body, 503 for the rest, where that can be said."""
        if self.exchange.stage >= STREAMING:
            self.reset(CALM)
        elif self.exchange.complete:
            self.refuse(PeerError(503, "the request does not fit the memory budget"))
        else:
            self.refuse(PeerError(413, "the request body does not fit the memory budget"))

    def _forget(self) -> None:
        """Nothing more is to come or to go."""
        self.is_over = True
        self._give_back()
        self._pending.clear()
        self._wake()
        self.link.forget(self)

    def _settle(self) -> None:
        """Is anything left to come or to go?"""
        if self._has_ended and not self.is_over and not self.link.engine.is_open(self.number):
            self._forget()

    def reset(self, code: int) -> None:
        self.link.engine.reset(self.number, code)
        self.cancel()
        self.link.send_soon()

    # --- the exchange's side: what goes

    @property
    def is_paused(self) -> bool:
        return bool(self._pending)

    def send_interim(self, head: bytes) -> None:
        if not self.is_over:
            self.link.engine.interim(self.number, head)
            self.link.send_soon()

    def send_head(self, head: bytes, end: bool) -> None:
        if self.is_over:
            return
        self.link.engine.head(self.number, head, end)
        if end:
            self._end()
        else:
            self.link.send_soon()

    def send_body(self, body: bytes, end: bool) -> None:
        if self.is_over:
            return
        engine, size = self.link.engine, len(body)
        if (
            not self._pending
            and not self.link.is_paused
            and size <= FRAME
            and size <= engine.room(self.number)
        ):
            engine.data(self.number, body, end)
            self._sent += size
            if end:
                self._end()
            self._send_out()
            return
        if size > FRAME and not self.link.has_room(size):
            self.reset(CALM)
            return
        if size:
            self._pending.append(memoryview(body))
        self._will_end = end
        self.pump()
        self._send_out()

    def _send_out(self) -> None:
        """A little goes with what else is sent in this turn; much must not pile up until then."""
        if self.link.engine.ready >= WRITE:
            self.link.write_out()
        else:
            self.link.send_soon()

    def send_trailers(self, fields: bytes) -> None:
        if self.is_over:
            return
        self._trailers, self._will_end = fields, True
        self.pump()
        self.link.send_soon()

    def pump(self) -> bool:
        """Send what the client takes, up to our turn's end; whether something was sent."""
        link, pending, before = self.link, self._pending, self._sent
        engine, number = link.engine, self.number
        if self.is_over:
            return False
        while pending and not link.is_paused and self._sent - before < TURN:
            piece = pending[0]
            size = min(len(piece), FRAME, engine.room(number))
            if not size:
                break
            if size < len(piece):
                pending[0] = piece[size:]
            else:
                pending.popleft()
            end = self._will_end and not pending and not self._trailers
            engine.data(number, bytes(piece[:size]), end)
            self._sent += size
            if end:
                self._end()
            elif engine.ready >= WRITE:
                link.write_out()
        if not pending:
            if self._will_end and not self._has_ended:
                self._finish()
            self._wake()
        self._wait_for_room()
        return self._sent > before

    def _finish(self) -> None:
        """The end, where no piece of the body carries it."""
        if self._trailers:
            self.link.engine.head(self.number, self._trailers, end=True)
        else:
            self.link.engine.data(self.number, b"", end=True)
        self._end()

    def _wait_for_room(self) -> None:
        if self._pending and not self.is_over:
            self.link.blocked[self] = None
            if self.link.engine.room(self.number) and not self.link.is_paused:
                self.link.pump_soon()  # it was only its turn that ended
            if self._send_by == NEVER:
                self._taken = self._sent
                self._send_by = self.link.server.clock() + self.link.server.http.write_timeout
                self._watch()
                self.link.server.memory.count_unsent(self.link)
        else:
            self._send_by = NEVER
            self.link.blocked.pop(self, None)

    def _end(self) -> None:
        self._has_ended = True
        self.link.send_soon()
        self._settle()

    async def drain(self) -> None:
        """Return once the client has taken what was written, as far as its windows tell."""
        if self._pending:
            waiter = self.link.server.loop.create_future()
            if self._drains is None:
                self._drains = []
            self._drains.append(waiter)
            await waiter

    def _wake(self) -> None:
        waiters, self._drains = self._drains, None
        for waiter in waiters or ():
            if not waiter.done():
                waiter.set_result(None)

    # --- the exchange's side: the rest

    def body_taken(self) -> None:
        """The app took what was read of the body: the client may send as much again."""
        if self._credit:
            self._give_back()
            if self._body_by != NEVER:
                self.await_body()
            self.link.send_soon()

    def _give_back(self) -> None:
        credit, self._credit = self._credit, 0
        self.link.give_back(self.number, credit)

    def answered(self, exchange: Exchange, size: int) -> None:
        self._give_back()
        self.link.answered(exchange, size)

    def abandoned(self, exchange: Exchange, fresh: bool) -> None:
        """The app will not end this answer. `fresh`: nothing of it was sent."""
        if fresh and not self.is_over:
            size = self.link.answer_of_ours(self.number, exchange.status, exchange.scope["method"])
            self.answered(exchange, size)
            self._has_ended = True
            self._settle()
            if not self.is_over:
                self.reset(NO_ERROR)
            self.link.send_soon()
        else:
            self.answered(exchange, exchange.sent)
            self.reset(INTERNAL_ERROR)

    def finished(self, exchange: Exchange) -> None:
        self.link.finished(self, exchange)

    def blame(self) -> None:
        self.link.server.app_errors += 1

    def head_of(self, status: int, without: Set[bytes] = frozenset()) -> bytes:
        return self.link.head_of(status, without)

    def refresh(self) -> None:
        self.link.refresh()

    def begins(self, exchange: Exchange) -> None:
        self.link.server.begins(exchange)

    # --- deadlines

    def _watch(self) -> None:
        self.due = min(self._body_by, self._send_by)
        if self.due < self.booked:
            self.link.server.wheel.book(self)

    def overdue(self, now: float) -> None:
        """The wheel found our deadline passed."""
        http = self.link.server.http
        if self._send_by <= now:
            # Where the transport itself is stuck, the connection sees to that.
            too_slow = self._sent - self._taken < RATE * http.write_timeout
            if too_slow and not self.link.is_paused:
                self.reset(CANCEL)
                return
            self._taken = self._sent
            self._send_by = now + http.write_timeout
        if self._body_by <= now:
            if self.exchange.stage is ENDED:
                self._body_by = NEVER
                if self._has_ended:
                    self.reset(NO_ERROR)
                    return
            elif (
                not self._credit
                and self.awaits_client
                and self._received - self._came < RATE * http.body_timeout
            ):
                self.refuse(PeerError(408, "the request body makes no progress"))
                return
            else:  # it comes, or waits for the app or for others of the connection
                self._came = self._received
                self._body_by = now + http.body_timeout
        self._watch()
