"""Deadlines of connections, kept coarsely: one timer for all of them, and none when there are none.

A connection keeps its own deadline as a plain number and moves it as often as it likes; the wheel
looks only at a bucket's time, and books again what was moved meanwhile. So a request costs one
comparison, and an idle worker wakes when the nearest bucket is due.
"""

import asyncio
import math
import operator
import time
from collections.abc import Callable, Iterator
from typing import Protocol

GRAIN = 1.0  # seconds by which a deadline may be late
# Bytes a second that a body must come with, and an answer be taken with, on average: what is slower
# holds a connection for little. IIS and Kestrel ask for 240, Apache's mod_reqtimeout for 500; a
# modem of 1990 has a kilobyte.
RATE = 240
NEVER = math.inf
DUE = operator.attrgetter("due")


class Watched(Protocol):
    """Something with a deadline."""

    due: float  # when to act; moved freely, but call `Wheel.book` where it gets before `booked`
    booked: float  # when the wheel will look at it; kept by the wheel

    def overdue(self, now: float) -> None:
        """Act: close, or move `due`. `due` left in the past means: do not look again."""


class Wheel:
    """Buckets of a second each. `clock` is monotonic seconds; tests bring their own."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        clock: Callable[[], float] = time.monotonic,
        grain: float = GRAIN,
    ) -> None:
        self._loop = loop
        self._clock = clock
        self._grain = grain
        self._buckets: dict[float, set[Watched]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due = NEVER

    def book(self, item: Watched) -> None:
        """Look at the item once its deadline has passed; replaces an earlier booking."""
        if item.booked != NEVER:
            self._leave(item)
        if item.due == NEVER:
            return
        # Rounded up, so that nothing is judged early.
        item.booked = (item.due // self._grain + 1) * self._grain
        bucket = self._buckets.get(item.booked)
        if bucket is None:
            self._buckets[item.booked] = bucket = set()
            if item.booked < self._timer_due:
                self._arm(item.booked)
        bucket.add(item)

    def forget(self, item: Watched) -> None:
        """The item is gone."""
        if item.booked != NEVER:
            self._leave(item)
            if not self._buckets and self._timer is not None:
                self._timer.cancel()
                self._timer, self._timer_due = None, NEVER

    def nearest(self) -> Iterator[Watched]:
        """Items by their deadlines, nearest first.

        What was moved since it was booked is booked anew, and comes when it is its turn.
        """
        time_ = -NEVER
        while times := [later for later in self._buckets if later > time_]:
            time_ = min(times)
            for item in sorted(self._buckets[time_], key=DUE):
                if item.due >= time_:
                    self.book(item)
                elif item.booked == time_:
                    yield item

    def turn(self) -> None:
        """Act on what is due, and sleep until the next bucket. May be called early."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._timer_due = None, NEVER
        now = self._clock()
        for time_ in sorted(time_ for time_ in self._buckets if time_ <= now):
            for item in self._buckets.pop(time_, ()):
                item.booked = NEVER
                self._look(item, now)
        if self._buckets:
            nearest = min(self._buckets)
            if nearest < self._timer_due:
                self._arm(nearest)

    def _look(self, item: Watched, now: float) -> None:
        if item.due <= now:
            item.overdue(now)
        if item.due > now and item.booked == NEVER:
            self.book(item)

    def _leave(self, item: Watched) -> None:
        bucket = self._buckets.get(item.booked)
        if bucket is not None:
            bucket.discard(item)
            if not bucket:
                del self._buckets[item.booked]
        item.booked = NEVER

    def _arm(self, due: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_due = due
        self._timer = self._loop.call_later(max(0.0, due - self._clock()), self.turn)
