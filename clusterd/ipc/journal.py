"""The numbered history of a cluster: bounded, and complete since any number still in it.

A watcher says "everything since n", so it may connect late and misses nothing. Operators follow
it (`clusterd events`), and so do the tests.
"""

import collections
import itertools
from collections.abc import Callable, Iterable
from typing import Any, Self

from clusterd.core.events import Event, Kind

KEPT = 4096  # events; some ten reloads of a hundred workers
MOST_TEXT = 8 * 1024 * 1024  # characters of stacks in all of them: a dump may be 60,000
GONE = "no longer kept: there were others since\n"


class Journal:
    """Append-only, numbered from 1. Listeners hear of each event as it is written."""

    def __init__(self, wall: Callable[[], float]) -> None:
        self._wall = wall
        self._events: collections.deque[Event] = collections.deque(maxlen=KEPT)
        self._listeners: list[Callable[[Event], None]] = []
        self._texts: collections.deque[Event] = collections.deque()  # those that have stacks
        self._size = 0  # of their stacks
        self.last = 0

    @classmethod
    def restored(cls, events: Iterable[Event], last: int, wall: Callable[[], float]) -> Self:
        """The journal of an earlier life: numbers go on where they were."""
        journal = cls(wall)
        for event in events:
            journal._keep(event)
        journal.last = last
        return journal

    def append(self, kind: Kind, **fields: Any) -> Event:
        """Write one event and tell the listeners."""
        self.last += 1
        event = Event(self.last, self._wall(), kind, fields)
        self._keep(event)
        for listener in self._listeners:
            listener(event)
        return event

    def _keep(self, event: Event) -> None:
        """Events are bounded by their number, and their stacks by their size: oldest first."""
        self._events.append(event)
        if not event.fields.get("traceback"):
            return
        self._texts.append(event)
        self._size += len(event.fields["traceback"])
        while self._size > MOST_TEXT and len(self._texts) > 1:
            oldest = self._texts.popleft()
            self._size -= len(oldest.fields["traceback"])
            oldest.fields["traceback"] = GONE

    def since(self, number: int, most: int = KEPT) -> list[Event]:
        """The first events after `number`, oldest first; those no longer kept are missing."""
        count = min(self.last - number, len(self._events))
        if count <= 0:
            return []
        latest = itertools.islice(reversed(self._events), count)
        return list(latest)[::-1][:most]

    def listen(self, listener: Callable[[Event], None]) -> None:
        """Have `listener` called with each new event. It must not block or raise."""
        self._listeners.append(listener)
