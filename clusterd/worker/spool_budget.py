"""The disk that request bodies of one worker take while they wait for their WSGI app.

A spool says by how much it will grow before it does, so the sum is exact and never beyond the
budget. From `SHARE` of it on, clients that make no progress with their bodies lose them, the
largest first, by the same rule as in `memory_budget`; a body that has no room is refused. Where
files would lie in memory, as on tmpfs, there are none: such bodies are the memory budget's.
"""

import tempfile
import time
from collections.abc import Callable
from typing import NamedTuple

from clusterd.app.spool import NoRoomOnDiskError, Spool
from clusterd.core.log import fields, get_logger
from clusterd.core.units import GIB, show_bytes
from clusterd.kernel import disk
from clusterd.worker.deadlines import RATE
from clusterd.worker.memory_budget import CALM, GRACE, LOOK, QUIET, SHARE, THROUGH

logger = get_logger("clusterd.worker")

PART = 4  # a quarter of what is free is for bodies; the rest is for everything else on that disk
LEAST = GIB  # where limit_spool sets no limit: the default of limit_spool


class Mark(NamedTuple):
    """How much of a body was on disk at some time."""

    since: float
    size: int


class SpoolBudget:
    """The budget of one worker. With a `limit` of 0 it follows from the disk and its `sharers`."""

    __slots__ = ("_clock", "_least", "_look_by", "_marks", "_said", "_sharers", "held", "limit")

    def __init__(
        self,
        limit: int,
        limit_spool: int,
        sharers: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.limit = limit  # bytes
        self.held = 0
        self._least = limit_spool or LEAST
        self._sharers = max(1, sharers)  # workers that share the disk
        self._clock = clock
        self._marks: dict[Spool, Mark | None] = {}  # of all that is on disk
        self._look_by = 0.0
        self._said = -QUIET

    def is_on_disk(self, fd: int) -> bool:
        """Return whether an open file lies on a disk, whose free space sets the budget if need be.

        That is asked with the first file: only then is it sure where files are made.
        """
        if disk.is_in_memory(fd):
            return False
        if not self.limit:
            self.limit = max(self._least, disk.free_space(fd) // PART // self._sharers)
        return True

    def grow(self, spool: Spool, size: int) -> None:
        """Count so many bytes more of a spool. Raises NoRoomOnDiskError."""
        if self.held + size > self.limit * SHARE:
            self._make_room(spool, size)
            if self.held + size > self.limit:
                self._report()
                raise NoRoomOnDiskError
        self._marks.setdefault(spool)
        spool.on_disk += size
        self.held += size

    def forget(self, spool: Spool) -> None:
        """Count a spool no more."""
        self._marks.pop(spool, None)
        self.held -= spool.on_disk
        spool.on_disk = 0

    def _make_room(self, growing: Spool, size: int) -> None:
        """Give up bodies whose clients make no progress, the largest first, ten times a second."""
        now = self._clock()
        if now < self._look_by:
            return
        self._look_by = now + LOOK
        for spool in sorted(self._marks, key=_on_disk, reverse=True):
            if self.held + size <= self.limit * CALM:
                break
            if not spool.owner.awaits_body or not self._is_stuck(spool, now):
                continue
            if spool is growing:  # it is in the middle of that
                raise NoRoomOnDiskError
            spool.owner.give_up_body()

    def _is_stuck(self, spool: Spool, now: float) -> bool:
        """Return whether a body has grown too little since it was last looked at."""
        mark = self._marks[spool]
        if mark is not None and now - mark.since < GRACE:
            return False
        self._marks[spool] = Mark(now, spool.on_disk)
        if mark is None:
            return False
        wanted = max(RATE, spool.on_disk / THROUGH) * (now - mark.since)
        return spool.on_disk - mark.size < wanted

    def _report(self) -> None:
        now = self._clock()
        if now - self._said >= QUIET:
            self._said = now
            logger.warning(
                "request bodies that wait for the application take %s of %s on disk in %s: others "
                "are refused (spool_budget)",
                show_bytes(self.held),
                show_bytes(self.limit),
                tempfile.tempdir,
                extra=fields(spooled=self.held, spool_budget=self.limit),
            )


def _on_disk(spool: Spool) -> int:
    return spool.on_disk
