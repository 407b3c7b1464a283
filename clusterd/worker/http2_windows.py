"""The windows that HTTP/2 clients may fill with bodies: memory that is promised to them.

A connection begins with the least that HTTP/2 has, 64 KiB for all its bodies. Its window is doubled
as often as the client fills half of it, up to a mebibyte, as long as what is held and promised by
all of the worker fits its memory budget. While memory is short windows get no wider, and what the
app takes makes wide ones narrow again.
"""

import asyncio
from typing import Protocol

from clusterd.worker.memory_budget import MemoryBudget

WIDEST = 1024 * 1024  # bytes of a connection's bodies
AGAIN = 0.1  # seconds until those that got no wider ask again


class Asking(Protocol):
    """A connection."""

    promised: int  # bytes of its window beyond the least

    def widen(self) -> None:
        """Ask for a wider window, if it needs one still."""


class Windows:
    """One worker's."""

    __slots__ = ("_is_waiting", "_loop", "_memory", "_refused", "promised")

    def __init__(self, memory: MemoryBudget, loop: asyncio.AbstractEventLoop) -> None:
        self._memory = memory
        self._loop = loop
        self._refused: set[Asking] = set()
        self._is_waiting = False
        self.promised = 0  # bytes beyond the least, to all connections

    def grant(self, link: Asking, size: int) -> int:
        """Return how many bytes wider a window may get; where it is none, `widen` comes later."""
        more = min(size, WIDEST - size)
        memory = self._memory
        if memory.is_short or memory.held + self.promised + more > memory.high:
            self._refused.add(link)
            if not self._is_waiting:
                self._is_waiting = True
                self._loop.call_later(AGAIN, self._ask_again)
            return 0
        link.promised += more
        self.promised += more
        return more

    def _ask_again(self) -> None:
        self._is_waiting = False
        refused, self._refused = self._refused, set()
        for link in refused:
            link.widen()

    def reclaim(self, link: Asking, credit: int) -> int:
        """Return how many bytes of what the app took the client is not given back."""
        less = min(credit, link.promised) if self._memory.is_short else 0
        link.promised -= less
        self.promised -= less
        return less

    def forget(self, link: Asking) -> None:
        """A connection is over."""
        self.promised -= link.promised
        link.promised = 0
        self._refused.discard(link)
