"""The time that connections take of one turn of a worker's event loop, shared fairly.

It is for what costs far more than its bytes: frames of HTTP/2, and chunked bodies of HTTP/1.

The loop reads up to 256 KiB of each connection in one turn, and a thousand connections may bring
that at once: seconds of work, in which no other client is served. So what comes is worked off in
pieces, and once a turn has taken `SLICE` the rest waits, unread behind it what the client sends
next, until its connection comes up again in one of the next turns. Connections with little to do
come first.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Protocol

SLICE = 0.01  # seconds of a turn
# Bytes that are worked off in one go, at most. Frames of one byte of a body take the longest: 10 ms
# for so many.
PIECE = 16 * 1024


class Waiting(Protocol):
    """A connection that has read more than it has worked off."""

    @property
    def has_little(self) -> bool:
        """Return whether one piece is all there is."""

    def advance(self) -> bool:
        """Work off one piece; return whether there is more."""


class Turns:
    """One worker's. `clock` is monotonic seconds."""

    __slots__ = ("_clock", "_is_measured", "_is_scheduled", "_long", "_loop", "_short", "look_by")

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: Callable[[], float]) -> None:
        self._loop = loop
        self._clock = clock
        self._long: deque[Waiting] = deque()
        self._short: deque[Waiting] = deque()
        self._is_scheduled = False
        self._is_measured = False  # `_end` runs at the end of this turn
        self.look_by = 0.0  # before that a turn is short enough, and need not be asked for

    def is_used_up(self, now: float) -> bool:
        """Return whether this turn has taken long enough; to be asked from `look_by` on.

        A turn is measured from the first time that it is asked for: that is once in `SLICE` in a
        busy worker, and costs nothing in between. So a turn takes twice as long at most.
        """
        if now < self.look_by:
            return False
        if self._is_measured:
            return True
        self._is_measured = True
        self.look_by = now + SLICE
        self._loop.call_soon(self._end)
        return False

    def _end(self) -> None:
        self._is_measured = False
        self.look_by = self._clock() + SLICE

    def wait(self, link: Waiting) -> None:
        """Have a connection go on in one of the next turns."""
        (self._short if link.has_little else self._long).append(link)
        self._schedule()

    def _schedule(self) -> None:
        if not self._is_scheduled:
            self._is_scheduled = True
            self._loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        """Work off pieces for as long as a turn may take, one of each connection after another."""
        self._is_scheduled = False
        until = self._clock() + SLICE
        try:
            while queue := self._short or self._long:
                link = queue.popleft()
                if link.advance():
                    self._long.append(link)
                if self._clock() >= until:
                    break
        finally:  # an error of one connection must not leave the others waiting
            if self._short or self._long:
                self._schedule()
