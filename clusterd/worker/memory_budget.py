"""The memory that one worker holds for its clients: counted, bounded, and given up in time.

Each connection's limits are generous, since it may need them; all connections together must not
have them at once. What counts are heads, bodies, messages, and what clients have not taken yet; not
the connections themselves, which `max_connections` bounds, nor bodies on disk, which are an account
of their own (`spool_budget`).

A connection says what it holds when asked (`measure`), so no sum can drift. It is asked when it has
received more than `ALLOWANCE` since the last time, or is stuck with what it has to send; and those
that were found to hold something are asked again ten times a second while there are requests.
Small requests thus cost nothing. When the sum passes `SHARE` of the budget, connections that hold
something are no longer read from, and those go that make no progress, the largest first. Beyond
the budget whatever grows is refused.
"""

import asyncio
import itertools
import time
from collections.abc import Callable, Collection
from typing import Protocol

from clusterd.core.log import fields, get_logger
from clusterd.core.units import show_bytes
from clusterd.kernel.heap import APART, TOGETHER, keep_apart, trim
from clusterd.wire.heads import Pair
from clusterd.worker.deadlines import RATE

logger = get_logger("clusterd.worker")

ALLOWANCE = 16 * 1024  # bytes that a connection may have received and not be asked for
# Bytes that a connection can hold without our having noticed: those, and what a transport takes
# before it calls `pause_writing`. Where all of them could matter, all are looked at.
UNSEEN = ALLOWANCE + 64 * 1024
SHARE = 0.8  # of the budget: from here on nothing large is read
CALM = 0.7  # of the budget: below it everything is as usual again
LOOK = 0.1  # seconds between two looks at those that hold something
GRACE = 1.0  # seconds in which one that holds something must make progress, once memory is short
# Seconds in which a connection would get through with all that it holds, if it is not to be dropped
# while memory is short: 16 MiB need 280 kB a second, and 64 KiB need 1 kB.
THROUGH = 60.0
# The part of the budget that what the application has sent on one connection, or on one stream of
# HTTP/2, counts for at most. It may make a response in one piece that is larger than the budget: it
# has the memory for that, and a client that takes it must get it. Three such are under way at once.
RESPONSE = 4
PAIR = 128  # bytes of the objects of one header, beside its text: a tuple, and two of bytes
STEPS = 20  # parts of the budget: at each, what was freed meanwhile is returned to the system
TRIM = 1.0  # seconds until it is at the latest while memory is short: 17 to 29 ms were measured
QUIET = 10.0  # seconds between two lines in the log


class Holder(Protocol):
    """A connection, as it is seen here."""

    held: int  # bytes, when last asked; kept by the budget
    is_closing: bool  # nothing more is read, and what is held goes with the connection

    def measure(self) -> int:
        """Return the bytes that are held for its client now."""

    def count_moved(self) -> int:
        """Return how many bytes its client has sent and taken up to now, or 0 for not known."""

    @property
    def awaits_client(self) -> bool:
        """Return whether what it holds is held until its client sends or takes more."""

    def hold_off(self) -> None:
        """Read no more from the client, until `go_on`."""

    def go_on(self) -> None:
        """Read again, if nothing else forbids it."""

    def shed(self) -> None:
        """Give up what is held for the client, and say why where that can be said."""


class Progress:
    """The bytes that a connection had moved and held at some time."""

    __slots__ = ("held", "moved", "since")

    def __init__(self, since: float, moved: int, held: int) -> None:
        self.since = since
        self.moved = moved
        self.held = held


class MemoryBudget:
    """The budget of one worker. `holders` are all its connections."""

    __slots__ = (
        "_clock",
        "_holders",
        "_is_apart",
        "_large",
        "_look_by",
        "_loop",
        "_most",
        "_progress",
        "_said",
        "_sees_all",
        "_trim_at",
        "_trim_by",
        "_will_act",
        "calm",
        "held",
        "high",
        "is_over",
        "is_short",
        "limit",
        "stopped",
    )

    def __init__(
        self,
        limit: int,
        loop: asyncio.AbstractEventLoop,
        holders: Collection[Holder],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.limit = limit
        self.high, self.calm = int(limit * SHARE), int(limit * CALM)
        self.held = 0  # bytes, as far as we know
        self.is_over = False  # what the application has made is too much: no request is begun
        self.is_short = False
        self.stopped: set[Holder] = set()  # not read from, since memory is short
        self._loop = loop
        self._holders = holders
        self._clock = clock
        self._large: set[Holder] = set()  # those that hold something
        self._progress: dict[Holder, Progress] = {}
        self._look_by = 0.0
        self._will_act = False
        self._trim_at = limit // 4  # bytes held at which memory is next returned to the system
        self._trim_by = 0.0  # and when, while memory is short
        self._most = 0  # bytes held at most since it last was
        self._is_apart = False  # large buffers have mappings of their own
        self._sees_all = False  # also what is no more than the allowance counts
        self._said = -QUIET

    @property
    def room(self) -> int:
        """Bytes that may still be held, below 0 where there is too much."""
        return self.limit - self.held

    @property
    def most_unsent(self) -> int:
        """Bytes that count at most of what one connection has to send."""
        return self.limit // RESPONSE

    # --- counting

    def count(self, holder: Holder) -> None:
        """Ask a connection what it holds, which has grown; act if it is too much."""
        self._measure(holder)
        if self.held > self._trim_at:
            self._trim()
        if self.held > self.high:
            self._react(holder)

    def _trim(self) -> None:
        """Return the holes that buffers left where they grew: to the system they are ours."""
        if not self._is_apart and self.held > self.limit // 8:
            self._is_apart = True
            keep_apart(APART)
        trim()
        self._trim_at = self.held + self.limit // STEPS
        self._trim_by = self._clock() + TRIM
        self._most = self.held

    def count_unsent(self, holder: Holder) -> None:
        """Ask a connection whose client does not take what the application has made for it."""
        self._measure(holder)
        if self.held > self.limit:
            self.is_over = True  # at once: a turn of the loop may begin a thousand requests
        if self.held > self.high and not self._will_act:
            # Not at once: the application is in the middle of sending something.
            self._will_act = True
            self._loop.call_soon(self._make_room)

    def _make_room(self) -> None:
        self._will_act = False
        now = self._clock()
        self._measure_all(now)
        if self.held > self.high and not self.is_short:
            self._begin(now)
        else:
            self._judge(now)
        self.is_over = self.held > self.limit

    def _measure(self, holder: Holder) -> None:
        size = holder.measure()
        if size <= ALLOWANCE and not self._sees_all:
            size = 0
        self.held += size - holder.held
        holder.held = size
        if size:
            self._large.add(holder)
        else:
            self._large.discard(holder)

    def forget(self, holder: Holder) -> None:
        """A connection is over."""
        self.held -= holder.held
        holder.held = 0
        self._large.discard(holder)
        self.stopped.discard(holder)
        self._progress.pop(holder, None)

    def look(self, now: float) -> None:
        """Ask again those that hold something, if that is due; and all, where it may matter."""
        if now < self._look_by or not (self._large or self._may_hide):
            return
        self._measure_all(now)
        if self.held > self.high and not self.is_short:
            self._begin(now)

    @property
    def _may_hide(self) -> bool:
        return self.held + len(self._holders) * UNSEEN > self.high

    def _measure_all(self, now: float) -> None:
        self._look_by = now + LOOK
        self._trim_at = min(self._trim_at, max(self.held, self.limit // 4) + self.limit // STEPS)
        self._sees_all = self.is_short or self._may_hide
        for holder in {*self._holders, *self._large} if self._sees_all else list(self._large):
            self._measure(holder)
        if self._is_apart and self.held < self.limit // 8:
            self._is_apart = False
            keep_apart(TOGETHER)

    # --- when there is too much

    def _react(self, holder: Holder) -> None:
        """A connection has grown, and all hold more than they should."""
        now = self._clock()
        if now >= self._look_by:
            self._measure_all(now)  # much may have gone since, or come a little at a time
        if holder.held <= ALLOWANCE:
            pass  # it is served like any other
        elif self.held > self.limit:
            self._give_up(holder)
        elif self.held > self.high:
            self.stopped.add(holder)
            holder.hold_off()
        if self.held > self.limit:
            self._judge(now)  # a thousand small ones may come before the next look
        if self.held > self.high and not self.is_short:
            self._begin(now)

    def _begin(self, now: float) -> None:
        self.is_short = True
        if now - self._said >= QUIET:
            self._said = now
            logger.warning(
                "what clients make this worker hold is at %s of %s: no more is read of what is "
                "large, and the largest that make no progress are dropped",
                show_bytes(self.held),
                show_bytes(self.limit),
                extra=fields(held=self.held, memory_budget=self.limit),
            )
        self._judge(now)
        self._trim()
        self._loop.call_later(LOOK, self._go_through)

    def _go_through(self) -> None:
        """Look at all, drop some if need be, and see whether memory is short no more."""
        now = self._clock()
        self._measure_all(now)
        self._judge(now)
        self.is_over = self.held > self.limit
        if now >= self._trim_by or self.held < self._most - self.limit // STEPS:
            self._trim()
        self._most = max(self._most, self.held)
        if self.held > self.calm:
            self._loop.call_later(LOOK, self._go_through)
            return
        self.is_short = False
        self._progress.clear()
        stopped, self.stopped = self.stopped, set()
        for holder in stopped:
            holder.go_on()

    def _judge(self, now: float) -> None:
        """Give up those that make no progress, the largest first, until there is room again."""
        for holder in sorted(self._large, key=_size, reverse=True):
            if self.held <= self.calm:
                break
            if self.held > self.limit or (holder.awaits_client and self._is_stuck(holder, now)):
                self._give_up(holder)

    def _is_stuck(self, holder: Holder, now: float) -> bool:
        """Return whether a connection has moved too little since it was first looked at."""
        before = self._progress.get(holder)
        if before is None:
            self._progress[holder] = Progress(now, holder.count_moved(), holder.held)
            return False
        seconds = now - before.since
        if seconds < GRACE:
            return False
        moved = holder.count_moved()
        # Where the kernel does not count, as on Unix sockets, what we hold must have changed.
        done = moved - before.moved if moved else abs(holder.held - before.held)
        before.since, before.moved, before.held = now, moved, holder.held
        return done < max(RATE, holder.held / THROUGH) * seconds

    def _give_up(self, holder: Holder) -> None:
        # Before: what is to be thrown away from now on must be read.
        self.forget(holder)
        holder.shed()
        if not holder.is_closing:  # a part of it was given up
            self._measure(holder)


def size_of(headers: list[Pair]) -> int:
    """Return the bytes of names and values, and of the objects that they are in."""
    return PAIR * len(headers) + sum(map(len, itertools.chain.from_iterable(headers)))


def _size(holder: Holder) -> int:
    return holder.held
