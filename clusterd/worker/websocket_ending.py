"""How a WebSocket ends: close frames, deadlines, and a worker that leaves.

A client that answers neither pings nor a close frame is let go. A worker that leaves says so: 1012
at a reload, spread over a part of the time it has, so that not all clients come back at once; 1001
at a stop.
"""

import asyncio
import random
import sys
from abc import abstractmethod

from clusterd.app.websocket import Session
from clusterd.wire import websocket as wire
from clusterd.wire.websocket import Frames, Violation
from clusterd.worker.deadlines import NEVER, RATE
from clusterd.worker.ending import LINGER, LINGER_ROOM
from clusterd.worker.link import SLOTS, Link
from clusterd.worker.memory_budget import ALLOWANCE
from clusterd.worker.server import Server

FAREWELL = 5.0  # seconds for a client to answer our close frame
SPREAD = 0.5  # of the time left at a reload: over this part of it clients are sent away


class WebSocketEnding(Frames, Link):
    """The part of a WebSocket that is about its end. `WebSocket` is the whole."""

    __slots__ = (
        *SLOTS,
        *wire.SLOTS,
        "_discarded",
        "_fresh",
        "_heard",
        "_is_lingering",
        "_is_stopped",
        "_leaving",
        "_message_by",
        "_next_ping",
        "_said_close",
        "_unanswered",
        "_violation",
        "session",
    )

    def __init__(self, server: Server) -> None:
        Frames.__init__(self, server.config.websocket.websocket_max_size)
        Link.__init__(self, server)
        self.session: Session | None = None  # None: the handshake was refused
        self._is_stopped = False  # reading is paused, by us
        self._heard = False  # something came since the last ping
        self._next_ping = self._unanswered = NEVER  # when, and of which time no answer came yet
        self._said_close = False
        # How the client broke the protocol, while the app has not seen what came before that.
        self._violation: Violation | None = None
        self._is_lingering = False
        self._discarded = 0
        self._message_by = NEVER  # when a message that is half read must have got on
        self._fresh = 0  # bytes that came since the memory budget asked what we hold
        self._leaving: asyncio.TimerHandle | None = None

    @abstractmethod
    def more(self) -> None:
        """Read on."""

    @abstractmethod
    def _break(self, error: Violation) -> None:
        """Fail the connection."""

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

    # --- for the memory budget

    def measure(self) -> int:
        size = super().measure() + sys.getsizeof(self._buffer)
        if self._message is not None:
            size += sys.getsizeof(self._message)
            if self._inflates and self._deflate is not None:
                size += 1 << self._deflate.remote_max_window_bits
        return size if self.session is None else size + self.session.waiting

    def room(self) -> int:
        # What came of the message is held, and what is made of it takes its place.
        memory = self.server.memory
        return memory.room + self.held

    @property
    def _is_half_read(self) -> bool:
        return bool(self._buffer) or self._message is not None

    @property
    def awaits_client(self) -> bool:
        return self.is_paused or (self._is_half_read and not self.is_full)

    def hold_off(self) -> None:
        if not self.is_closing:
            self._is_stopped = True
            self._transport.pause_reading()

    def go_on(self) -> None:
        if self._is_stopped and not (self.is_full or self.is_closing):
            self._is_stopped = False
            self._transport.resume_reading()

    def shed(self) -> None:
        """Give up what is held: with close code 1013, where that can be said."""
        self._message = None
        if self.session is not None:
            self.session.drop()
        if self.is_open and not self.is_paused:
            self._fail(wire.TRY_LATER, "memory is short")
        else:
            self._reset()

    # --- deadlines

    def _settle(self, size: int) -> None:
        """Bytes came, and a message is half read or waits for the app."""
        if self.is_closing:
            return
        if self._is_half_read and not self.is_full:
            by = self.server.clock() + self.server.http.body_timeout
            if self._message_by == NEVER:
                self._message_by = by
                self._rest()
            else:  # what comes puts it off as far as its size is worth
                self._message_by = min(self._message_by + size / RATE, by)
        else:
            self._message_by = NEVER
        # More may be held than what came, where it was compressed.
        self._fresh += max(size, len(self._message or b""))
        if self._fresh > ALLOWANCE or self.is_full or self.held:
            self._fresh = 0
            self.server.memory.count(self)

    def overdue(self, now: float) -> None:
        if self._is_lingering:
            self.abort()
        elif self._violation is not None:
            self._fail(self._violation.status, self._violation.message)
        elif self._said_close and not self._unsent and self._transport.get_write_buffer_size():
            self._expect_progress()
        elif self.is_closing or self.is_paused or self._said_close:
            self._judge_progress(now)
        elif self._message_by > now:
            self._keep_alive(now)
        elif self in self.server.memory.stopped:
            self._message_by = NEVER  # it is us who do not read
            self._rest()
        else:
            self._break(Violation(wire.TOO_SLOW, "a message makes no progress"))

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
        self.due = min(self._next_ping, self._unanswered + timeout, self._message_by)
        if self.due < self.booked:
            self.server.wheel.book(self)

    # --- the end

    def hang_up(self, code: int, reason: str = "") -> None:
        """Begin the end (§7.1.2). Raises ValueError for what no close frame may have."""
        self._say_close(code, reason)
        self._expect_close()
        self.more()  # to see the client's close frame, whatever comes before it

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
        self._buffer = bytearray()
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

    def _discard(self, data: bytes) -> None:
        """Something came after the end."""
        self._discarded += len(data)
        if self._discarded > LINGER_ROOM:
            self.abort()
