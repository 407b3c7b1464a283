"""Clients that speak HTTP/1.1: one request at a time, one for each connection, or several at once.

The hot path is `HttpConnection.received`: nearly every answer of a run came before, byte for byte,
so a dictionary of whole answers says what it is. Looking one up takes 0.14 µs where reading it
takes 1.9 µs, and 13 µs with a head that is new; all in all a request takes about 10 µs. It is as
sure as reading: the same bytes, asked for by the same method, have the same end.
"""

from collections import deque
from time import monotonic_ns

from clusterd.bench import interval
from clusterd.bench.answers import BadAnswer, Reader
from clusterd.bench.connection import Connection, Driver
from clusterd.bench.dialer import Dialer
from clusterd.bench.plan import Ask, Plan
from clusterd.bench.troubles import strange

LONGEST_KNOWN = 2048  # bytes: hashing longer ones costs more than reading their heads
MEMORY = 512  # answers; those that are never the same are forgotten again
CUT_OFF = "the connection was closed in the middle of an answer"
NO_ANSWER = "the connection was closed instead of an answer"
GIVEN_UP = b"HTTP/1.1 408 "  # what some servers say before they close a connection that was idle


class HttpConnection(Connection):
    """Keeps its connection, and has one request under way."""

    __slots__ = ("_ask", "_plan", "_reader", "_several")

    def __init__(self, driver: Driver, dialer: Dialer, plan: Plan) -> None:
        super().__init__(driver, dialer)
        self._plan = plan
        self._reader = Reader(plan.heads)
        self._ask = plan.asks[0]
        self._several = len(plan.asks) > 1

    def opened(self, now: int) -> None:
        """It stands."""
        self._reader.reset()
        self.free(now)

    def ask(self, due: int, now: int) -> None:
        """Send the next request."""
        if self._several:
            self._ask = self._plan.draw()
        self.since, self.asked = due, now
        self.tally.sent += 1
        self.send(self._ask.wire)

    def received(self, data: bytes) -> None:
        """An answer, or a part of one."""
        if len(data) <= LONGEST_KNOWN:
            status = self._ask.known.get(data)
            if status is not None and self.since and not (self._rest or self._reader.begun):
                now = monotonic_ns()
                self.tally.answered(status, len(data), now - self.since)
                self.fruitless = self.since = self.asked = 0
                self.driver.freed(self, now)
                return
        self._read(data)

    def ended(self) -> None:
        """The end of an answer that had no other, or of the connection."""
        if self.since and (status := self._reader.finish()):
            self._whole(status)
        else:
            self.drop(CUT_OFF if self._reader.begun else NO_ANSWER)

    def answered(self, status: int, size: int, latency: int) -> None:
        """Note an answer. Of slow clients, the latency says nothing."""
        self.tally.answered(status, size, latency)

    def _read(self, data: bytes) -> None:
        if not self.since:
            self._unasked(data)
            return
        whole = not self._reader.begun
        try:
            status = self._reader.take(data, self._ask.bodiless)
        except BadAnswer as error:
            self.fail(interval.PROTOCOL, strange(data) or str(error))
            return
        if status:
            reader = self._reader
            if whole and len(data) <= LONGEST_KNOWN and not (reader.closes or reader.left):
                remember(self._ask, data, status)
            self._whole(status)

    def _whole(self, status: int) -> None:
        now, reader = monotonic_ns(), self._reader
        if reader.left:  # a HEAD answered with a body, or two answers: who knows to what
            self.fail(interval.PROTOCOL, "more than was asked for")
            return
        self.answered(status, reader.size, now - self.since)
        self.fruitless = self.since = 0
        if reader.closes or self.unsent:  # an answer before the whole request was sent
            self.redial()
        else:
            self.free(now)

    def _unasked(self, data: bytes) -> None:
        if data.startswith(GIVEN_UP):
            self.redial()
        else:
            self.fail(interval.PROTOCOL, "an answer that nobody asked for")


def remember(ask: Ask, answer: bytes, status: int) -> None:
    """That this is a whole answer of that status, after which the connection goes on."""
    if len(ask.known) >= MEMORY:
        ask.known.clear()
    ask.known[answer] = status


class FreshConnection(HttpConnection):
    """Makes a connection for each request: that is a part of what it takes to be answered."""

    __slots__ = ()

    def dial(self) -> None:
        """It needs none to be asked."""
        self.free(monotonic_ns())

    def ask(self, due: int, now: int) -> None:
        """Connect, and then send the next request."""
        self.since, self.asked = due, now
        self.connect()

    def opened(self, now: int) -> None:
        """It stands."""
        self._reader.reset()
        super().ask(self.since, self.asked)

    def received(self, data: bytes) -> None:
        """An answer, or a part of one; what is known of others says nothing of this one's end."""
        self._read(data)

    def _whole(self, status: int) -> None:
        self._reader.closes = True
        super()._whole(status)


class PipelinedConnection(HttpConnection):
    """Has several requests under way, and sends as many again as were answered together.

    Requests behind an answer that announces the connection's end are void by the protocol (RFC
    9112, 9.6): they count as never sent, and others follow on the next connection.
    """

    __slots__ = ("_depth", "_queue")

    def __init__(self, driver: Driver, dialer: Dialer, plan: Plan) -> None:
        super().__init__(driver, dialer, plan)
        self._depth = plan.load.pipeline
        self._queue: deque[tuple[Ask, int]] = deque()  # asked, and when it was due

    @property
    def under_way(self) -> int:
        """Requests that were sent and are not answered yet."""
        return len(self._queue)

    def close(self) -> None:
        """For good, unless it is dialed again."""
        self._queue.clear()
        super().close()

    def ask(self, due: int, now: int) -> None:
        """Send as many as there is room for, at once."""
        queue, wires = self._queue, []
        while len(queue) < self._depth:
            ask = self._plan.draw()
            queue.append((ask, due))
            wires.append(ask.wire)
        if wires:
            self.tally.sent += len(wires)
            self.since, self.asked = due, queue[0][1]
            self.send(b"".join(wires))

    def received(self, data: bytes) -> None:
        """Some answers, or a part of one."""
        reader, queue, now = self._reader, self._queue, monotonic_ns()
        while data:
            if not queue:
                self._unasked(data)
                return
            ask, due = queue[0]
            try:
                status = reader.take(data, ask.bodiless)
            except BadAnswer as error:
                self.fail(interval.PROTOCOL, strange(data) or str(error))
                return
            if not status:
                break
            queue.popleft()
            self.answered(status, reader.size, now - due)
            self.fruitless = 0
            if reader.closes:
                self._void()
                return
            data = reader.left
        self._more(now)

    def ended(self) -> None:
        """The end of an answer that had no other, or of the connection."""
        if self._queue and (status := self._reader.finish()):
            self.answered(status, self._reader.size, monotonic_ns() - self._queue.popleft()[1])
            self.fruitless = 0
            self._void()
        else:
            self.drop(CUT_OFF if self._reader.begun else NO_ANSWER)

    def _void(self) -> None:
        self.tally.sent -= len(self._queue)
        self._queue.clear()
        self.redial()

    def _more(self, now: int) -> None:
        if len(self._queue) < self._depth:
            self.since = self.asked = 0
            self.driver.freed(self, now)
