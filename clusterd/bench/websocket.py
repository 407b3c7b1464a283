"""Clients that talk over a WebSocket: each sends a message, waits for its echo, and sends the next.

The handshake is no request, and not in any latency; what fails in it is counted.
"""

from functools import cache
from itertools import cycle
from time import monotonic_ns

from clusterd.bench import interval
from clusterd.bench.connection import Connection, Driver
from clusterd.bench.dialer import Dialer
from clusterd.bench.frames import Broken, Echoes, Message, agreed, handshake
from clusterd.bench.plan import Plan

ECHOED = 101  # what counts as the status of an echo: its handshake's

message_of = cache(Message)  # all connections of a process send the same


class WebSocketConnection(Connection):
    """One WebSocket."""

    __slots__ = ("_accept", "_answer", "_echoes", "_got", "_message", "_next", "_plan")

    def __init__(self, driver: Driver, dialer: Dialer, plan: Plan) -> None:
        super().__init__(driver, dialer)
        self._plan = plan
        self._message = message_of(plan.load.message)
        self._next = cycle(self._message.frames).__next__
        self._accept = self._answer = b""  # of the handshake; b"" when it is done
        self._echoes = Echoes(self._message)
        self._got = 0  # bytes since the last echo

    def opened(self, now: int) -> None:
        """It stands: shake hands."""
        shake = handshake(self._plan.draw().wire)
        self._accept, self._answer = shake.accept, b""
        self._echoes = Echoes(self._message)
        self.asked = now
        self.send(shake.request)

    def ask(self, due: int, now: int) -> None:
        """Send a message."""
        self.since, self.asked = due, now
        self.tally.sent += 1
        self.send(self._next())

    def received(self, data: bytes) -> None:
        """An echo, mostly."""
        self._got += len(data)
        try:
            if self._accept:
                self._shaking(data)
                return
            count = self._echoes.feed(data)
        except Broken as error:
            self._broken(error)
            return
        if count == 1 and self.since:
            now = monotonic_ns()
            self.tally.answered(ECHOED, self._got, now - self.since)
            self._got = self.fruitless = 0
            self.free(now)
        elif count:
            self.fail(interval.PROTOCOL, "more echoes than messages")
        if self._echoes.owed and self.stands:
            owed, self._echoes.owed = self._echoes.owed, b""
            self.send(owed)

    def drop(self, text: str = "") -> None:
        """The peer ended it, be it in the handshake."""
        if self._accept:
            self.fail(self._failed or interval.CLOSED, text or "closed in the handshake")
        else:
            super().drop(text)

    def close(self) -> None:
        """For good, unless it is dialed again."""
        self._accept = self._answer = b""
        super().close()

    def _shaking(self, data: bytes) -> None:
        """Of the handshake's answer; raises Broken."""
        self._answer += data
        rest = agreed(self._answer, self._accept)
        if rest is None:
            return
        self._accept = self._answer = b""
        self._got = len(rest)
        if rest and self._echoes.feed(rest):
            raise Broken(interval.PROTOCOL, "an echo before the first message")
        self.free(monotonic_ns())

    def _broken(self, error: Broken) -> None:
        # A server may close a WebSocket on which nothing is under way, as any connection.
        if error.kind == interval.CLOSED and not self.under_way:
            self.redial()
        else:
            self.fail(error.kind, error.text)
