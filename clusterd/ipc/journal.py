"""The numbered history of a cluster: bounded, and complete since any number still in it.

A watcher says "everything since n", so it may connect late and misses nothing. Operators follow
it (`clusterd events`), and so do the tests.
"""

import collections
from collections.abc import Callable, Iterable
from typing import Any, Self

from clusterd.core.events import Event, Kind

KEPT = 4096  # events; some ten reloads of a hundred workers


class Journal:
    """Append-only, numbered from 1. Listeners hear of each event as it is written."""

    def __init__(self, wall: Callable[[], float]) -> None:
        self._wall = wall
        self._events: collections.deque[Event] = collections.deque(maxlen=KEPT)
        self._listeners: list[Callable[[Event], None]] = []
        self.last = 0

    @classmethod
    def restored(cls, events: Iterable[Event], last: int, wall: Callable[[], float]) -> Self:
        """The journal of an earlier life: numbers go on where they were."""
        journal = cls(wall)
        journal._events.extend(events)
        journal.last = last
        return journal

    def append(self, kind: Kind, **fields: Any) -> Event:
        """Write one event and tell the listeners."""
        self.last += 1
        event = Event(self.last, self._wall(), kind, fields)
        self._events.append(event)
        for listener in self._listeners:
            listener(event)
        return event

    def since(self, number: int) -> list[Event]:
        """Events after `number`, oldest first; those no longer kept are missing."""
        if number >= self.last:
            return []
        skip = max(0, len(self._events) - (self.last - number))
        return [event for index, event in enumerate(self._events) if index >= skip]

    def listen(self, listener: Callable[[Event], None]) -> None:
        """Have `listener` called with each new event. It must not block or raise."""
        self._listeners.append(listener)
