"""Clients that listen to server-sent events: asked once, they hold the stream until it ends.

A stream's latency lasts until its first event, and it counts as answered with that; all its events
are counted besides. What does not end is held to the end of the run, with no time limit.
"""

from time import monotonic_ns

from clusterd.bench import interval
from clusterd.bench.answers import BadAnswer, Reader
from clusterd.bench.connection import Connection, Driver
from clusterd.bench.dialer import Dialer
from clusterd.bench.events import Events
from clusterd.bench.plan import Plan
from clusterd.bench.tally import FAILED_FROM
from clusterd.bench.troubles import strange

TYPE = b"text/event-stream"


class SseConnection(Connection):
    """One stream after another."""

    __slots__ = ("_came", "_events", "_is_held", "_plan", "_reader")

    def __init__(self, driver: Driver, dialer: Dialer, plan: Plan) -> None:
        super().__init__(driver, dialer)
        self._plan = plan
        self._reader = Reader(plan.heads, self._heard)
        self._events = Events()
        self._came = 0  # events since we last looked
        self._is_held = False  # its first event was there

    def opened(self, now: int) -> None:
        """It stands."""
        self._reader.reset()
        self._is_held = False
        self.free(now)

    def ask(self, due: int, now: int) -> None:
        """For the next stream."""
        ask = self._plan.draw()
        self._events = Events()
        self._came = 0
        self.since, self.asked = due, now
        self.tally.sent += 1
        self.send(ask.wire)

    def received(self, data: bytes) -> None:
        """A part of a stream, or of an answer that is none."""
        if not (self.since or self._is_held):
            self.fail(interval.PROTOCOL, "an answer that nobody asked for")
            return
        reader = self._reader
        try:
            status = reader.take(data)
        except BadAnswer as error:
            self.fail(interval.PROTOCOL, strange(data) or str(error))
            return
        if self._is_held:
            self.tally.bytes += len(data)
        if self._came:
            self._count(reader.size)
        if status:
            self._over(status)

    def ended(self) -> None:
        """The end of a stream that had no other, or of the connection."""
        if status := self._reader.finish():
            self._over(status)
        else:
            self.drop()

    def drop(self, text: str = "") -> None:
        """The peer ended it; a stream that is held breaks off by that."""
        if self._is_held:
            self.fail(self._failed or interval.CLOSED, text or "a stream broke off")
        else:
            super().drop(text)

    def close(self) -> None:
        """For good, unless it is dialed again."""
        self._is_held = False
        super().close()

    def _heard(self, body: bytes) -> None:
        head = self._reader.head
        if (
            head is not None
            and head.status < FAILED_FROM
            and _is_stream(head.field(b"content-type"))
        ):
            self._came += self._events.feed(body)

    def _count(self, size: int) -> None:
        """Events came; the first of a stream is its answer."""
        self.tally.sse_events += self._came
        self._came = 0
        if not self._is_held:
            self._is_held = True
            head = self._reader.head
            assert head is not None  # or there was no body to find events in
            self.tally.answered(head.status, size, monotonic_ns() - self.since)
            self.fruitless = self.since = self.asked = 0

    def _over(self, status: int) -> None:
        """The answer is whole."""
        reader, now = self._reader, monotonic_ns()
        if not self._is_held:
            if status < FAILED_FROM:
                self._unheard()
                return
            self.tally.answered(status, reader.size, now - self.since)
            self.fruitless = self.since = 0
        self._is_held = False
        if reader.left:
            self.fail(interval.PROTOCOL, "more than was asked for")
        elif reader.closes or self.unsent:
            self.redial()
        else:
            self.free(now)

    def _unheard(self) -> None:
        """It ended, and had no event."""
        head = self._reader.head
        assert head is not None
        found = head.field(b"content-type")
        if _is_stream(found):
            self.fail(interval.CLOSED, "a stream ended before its first event")
        else:
            shown = found.decode("latin-1") or "of no type"
            self.fail(interval.PROTOCOL, f"the answer is no stream of events, but {shown}")


def _is_stream(content_type: bytes) -> bool:
    return content_type.partition(b";")[0].strip().lower() == TYPE
