"""How an HTTP/2 connection ends: deadlines, GOAWAY, and the last words to a client in error.

A worker that leaves says so with GOAWAY twice (RFC 9113 §6.8): first that it will not go on for
ever, then, once the client has read that, which request is the last; none is lost in between.
"""

from clusterd.wire.http2 import CALM, EVERY, Broken, Engine
from clusterd.worker.deadlines import NEVER
from clusterd.worker.ending import LINGER, LINGER_ROOM
from clusterd.worker.http2_stream import Stream
from clusterd.worker.link import SLOTS, Link, Origin
from clusterd.worker.memory_budget import ALLOWANCE
from clusterd.worker.server import Server

PATIENCE = 1.0  # s in which a leaving worker waits for a good moment to say so
NEWS = 5.0  # s for the client to hear that
NOTHING = memoryview(b"")


class Http2Ending(Link):
    """The part of a connection that is about its end. `Http2Connection` is the whole."""

    __slots__ = (
        *SLOTS,
        "_cancelled",
        "_discarded",
        "_head_by",
        "_idle_by",
        "_is_busy",
        "_is_final",
        "_is_flushing",
        "_is_leaving",
        "_is_parted",
        "_peer_ended",
        "_speak_by",
        "engine",
        "later",
        "promised",
        "streams",
    )

    engine: Engine
    blocked: dict[Stream, None]  # streams that wait for their client to take something

    def __init__(self, server: Server, origin: Origin | None = None) -> None:
        super().__init__(server, origin)
        self.streams: dict[int, Stream] = {}
        self._cancelled = 0  # requests whose stream is reset, and whose app has not seen it yet
        self._is_busy = False  # what is to be sent is sent at the end of what is going on
        self._is_flushing = False  # or it will be, at the end of this turn of the loop
        self._head_by = NEVER  # when a head that is half read must be whole
        self._idle_by = NEVER  # when the next request must have begun; PING puts that off for none
        self._is_leaving = False  # the client will be told so,
        self._speak_by = NEVER  # by then,
        self._is_parted = False  # has been,
        self._is_final = False  # and knows which request was the last
        self._peer_ended = False
        self._discarded = 0
        self.later = NOTHING  # came, and waits for its turn: see `turns`
        self.promised = 0  # bytes of window: see `http2_windows`

    # --- for the worker's life

    @property
    def idle(self) -> bool:
        return not (
            self.streams
            or self._cancelled
            or self.later
            or self.engine.is_parsing
            or self.is_closing
            or self.is_paused
            or self._peer_ended
            or self._transport.get_write_buffer_size()
        )

    def cancel(self) -> bool:
        """Cancel the app's tasks; whether there was one."""
        tasks = [stream.exchange.task for stream in self.streams.values()]
        cancelled = [task.cancel() for task in tasks if task is not None]
        return any(cancelled)

    def close_when_idle(self) -> None:
        if self.idle:
            self.close()
        else:
            self.drain_begins()

    def drain_begins(self) -> None:
        """Say so with the last of the answers in hand, if that comes soon.

        Not at once, though nothing may be in hand: the next request may be on its way, and clients
        built on h2 take GOAWAY for the end of whatever they wait for.
        """
        if not self._is_leaving:
            self._is_leaving = True
            self._speak_by = self.server.clock() + PATIENCE
            self._rest()

    def _part(self) -> None:
        """Tell the client to ask elsewhere, and hear when it knows."""
        self._is_parted = True
        self._speak_by = self.server.clock() + NEWS
        # In this order, though only what was sent before a PING is sure to be known at its answer:
        # after GOAWAY clients built on h2 take no PING. Both go out as one.
        self.engine.ping()
        self.engine.part(EVERY)
        self.send_soon()
        self._rest()

    def on_pong(self) -> None:
        if self._is_parted and not self._is_final:
            self._is_final = True
            self.engine.part(self.engine.latest)
            self.send_soon()
            self._end_if_done()

    def _end_if_done(self) -> None:
        if self.streams:
            return
        if self._is_final or self._peer_ended or self.engine.parted:
            self.close()
        elif self._is_leaving and not self._is_parted:
            self._part()

    # --- for the memory budget

    def measure(self) -> int:
        streams = sum([stream.measure() for stream in self.streams.values()])
        size = super().measure() + self.engine.held + streams
        # All of what came is kept until its last piece is worked off.
        return size + memoryview(self.later.obj).nbytes if self.later else size

    @property
    def awaits_client(self) -> bool:
        streams = self.streams.values()
        is_open = not self.later and (self.engine.is_parsing or not streams)
        return self.is_paused or is_open or any(stream.awaits_client for stream in streams)

    def hold_off(self) -> None:
        """Read on, but begin no request (`is_held_off`), and widen no window.

        A client that is not read from cannot give us leave to send, nor send what would have its
        requests end. What it may send is bounded by its window, and by the length of a head.
        """
        if self.engine.block > ALLOWANCE and not (self.streams or self.later):
            self._break(self.engine.end(CALM, "memory is short"))

    @property
    def is_held_off(self) -> bool:
        return self in self.server.memory.stopped

    def go_on(self) -> None:
        """Do nothing: what waits is `Turns`' and `Windows`' to take up again."""

    def shed(self) -> None:
        """Give up the streams that hold most, or the connection where its streams hold little.

        One stream at least, and as many as it takes to get below the budget, since what came at
        once may have begun several; the connection where that does not do.
        """
        if self.is_closing or self.is_paused:
            self._reset()
            return
        sizes = sorted([(stream.measure(), n) for n, stream in self.streams.items()], reverse=True)
        held, room = self.measure(), self.server.memory.room  # which does not count us any more
        if 2 * sum([size for size, _ in sizes]) > held:
            for size, number in sizes:
                if number in self.streams:
                    self.streams[number].shed()
                held -= size
                if held <= room or self.is_closing:
                    return
        self._break(self.engine.end(CALM, "memory is short"))

    # --- deadlines

    def _rest(self) -> None:
        """Set the deadline that belongs to where we are."""
        if self.is_closing or self.is_paused:
            return
        http, now = self.server.http, self.server.clock()
        if self.later:  # its rest may have come, or a request: that is judged when it was read
            self.due = self._speak_by
            return
        if self.engine.in_head or (self.engine.is_parsing and not self.streams):
            if self._head_by == NEVER:
                self._head_by = now + http.header_timeout
        else:
            self._head_by = NEVER
        idle_by = NEVER if self.streams else self._idle_by
        self.due = min(self._head_by, self._speak_by, idle_by)
        if self.due < self.booked:
            self.server.wheel.book(self)

    def overdue(self, now: float) -> None:
        """The wheel found our deadline passed."""
        if self.is_closing:
            self._judge_farewell(now)
        elif self.is_paused:
            self._judge_progress(now)
        elif self._head_by <= now:
            self.close(linger=True)
        elif self._speak_by <= now:
            self._speak_by = NEVER
            if self._is_parted:
                self.on_pong()  # it had its time to hear
            else:
                self._part()
            self._rest()
        elif self.streams:
            self.due = NEVER
        elif self._transport.get_write_buffer_size():
            self.abort()  # the last answer was never taken
        else:
            self.close()

    def _judge_farewell(self, now: float) -> None:
        if self._transport.get_write_buffer_size():
            self._judge_progress(now)
        else:
            self.abort()

    # --- closing

    def close(self, linger: bool = False) -> None:
        """End the connection once everything is sent. To `linger` is to let a client that is still
        sending read it first: unread bytes would reset the connection and take our words along."""
        if self.is_closing:
            return
        if not self._is_final:
            self.engine.part(self.engine.latest)
        self.write_out()
        self._shut(linger)

    def _shut(self, linger: bool) -> None:
        self.is_closing = True
        for stream in list(self.streams.values()):
            stream.cancel()
        self.engine.drop()
        if self.later:
            self.later = NOTHING
            self._transport.resume_reading()  # what comes after our last word is thrown away
        if linger and not self._peer_ended:
            self._transport.write_eof()
            self._wait(LINGER)
        else:
            self._transport.close()
            self._expect_progress()

    def _break(self, error: Broken) -> None:
        """The client has broken the protocol: our GOAWAY says how."""
        output = self.engine.output()
        self.server.refused(error.status, len(output), self.template)
        self.write(output)
        self._shut(linger=True)

    def _discard(self, data: bytes) -> None:
        """Something came after our last word."""
        self._discarded += len(data)
        if self._discarded > LINGER_ROOM:
            self.abort()

    # --- sending

    def send_now(self) -> None:
        """Send what is ready, unless somebody does so at the end of what is going on."""
        self._is_flushing = False
        if not self._is_busy:
            self.write_out()

    def send_soon(self) -> None:
        """The same at the end of this turn of the loop, so that answers go out together."""
        if not self._is_busy and not self._is_flushing:
            self._is_flushing = True
            self.server.loop.call_soon(self.send_now)

    def write_out(self) -> None:
        output = self.engine.output()
        if output and not self._transport.is_closing():
            self.write(output)
