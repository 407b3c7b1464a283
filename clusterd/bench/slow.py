"""Clients on bad lines: each takes its time to send a request, over and over.

They are connections of their own, besides those that are measured. If the same connections sent a
share of their requests slowly, nearly all of them would be doing so at any moment: of 64, with 3 %
that take a second, no more than 2,133 requests a second could come however fast the server is.
"""

import random
from math import ceil
from time import monotonic_ns

from clusterd.bench.connection import Driver
from clusterd.bench.dialer import Dialer
from clusterd.bench.http import HttpConnection
from clusterd.bench.load import Load
from clusterd.bench.plan import Plan

PIECES = 10  # that a request is sent in


def count(load: Load) -> int:
    """How many slow clients there are besides `load.connections`."""
    return ceil(load.slow * load.connections)


class SlowConnection(HttpConnection):
    """Asks by itself: the driver never hears that it is free."""

    __slots__ = ("_gap", "_pieces")

    def __init__(self, driver: Driver, dialer: Dialer, plan: Plan) -> None:
        super().__init__(driver, dialer, plan)
        self._gap = int(plan.load.slow_for * 1e9) // (PIECES - 1)  # ns between two pieces
        self._pieces: list[bytes] = []  # still to be sent, the last one first

    @property
    def unsent(self) -> bool:
        """Whether a part of the request has yet to be sent."""
        return bool(self._pieces) or super().unsent

    def opened(self, now: int) -> None:
        """It stands: begin some time soon, for they should not all do so at once."""
        self._reader.reset()
        self.asked = 0
        self._plan_piece(int(random.random() * self._gap), self._cut())

    def free(self, now: int) -> None:
        """The answer is whole: ask for the next one."""
        self.since = self.asked = 0
        self._plan_piece(0, self._cut())

    def received(self, data: bytes) -> None:
        """An answer, or a part of one."""
        self._read(data)

    def answered(self, status: int, size: int, latency: int) -> None:
        """It counts; but how long it took is the client's doing."""
        self.tally.counted(status, size)

    def close(self) -> None:
        """For good, unless it is dialed again."""
        self._pieces = []
        super().close()

    def _cut(self) -> list[bytes]:
        self._ask = self._plan.draw()
        wire = self._ask.wire
        size = ceil(len(wire) / PIECES)
        self._pieces = [wire[at : at + size] for at in range(0, len(wire), size)][::-1]
        return self._pieces

    def _plan_piece(self, wait: int, pieces: list[bytes]) -> None:
        """The next of these, unless the connection has gone on to others by then."""

        def send() -> None:
            if pieces is self._pieces and pieces:
                self._send_piece()

        self.driver.later(monotonic_ns() + wait, send)

    def _send_piece(self) -> None:
        pieces, now = self._pieces, monotonic_ns()
        if not self.since:
            self.since = now
            self.tally.sent += 1
        self.send(pieces.pop())
        if pieces:
            self._plan_piece(self._gap, pieces)
        else:
            self.asked = now  # from here on it is the server that takes its time
