"""The numbered history of a cluster: bounded, and complete since any number still in it.

A watcher says "everything since n", so it may connect late and misses nothing. Operators follow
it (`clusterd events`), and so do the tests.
"""

import collections
import itertools
import sys
from collections.abc import Callable, Iterable
from typing import Any, Self

from clusterd.core.events import Event, Kind

KEPT = 4096  # events; some ten reloads of a hundred workers
# Bytes of memory of long texts in all of them. Stacks may have 60,000 characters, and reasons come
# from applications, too. A character takes up to four bytes.
MOST_TEXT = 8 * 1024 * 1024
LONG = 512  # bytes of memory from which a text counts
GONE = "no longer kept: there were others since\n"


class Journal:
    """Append-only, numbered from 1. Listeners hear of each event as it is written."""

    def __init__(self, wall: Callable[[], float]) -> None:
        self._wall = wall
        self._events: collections.deque[Event] = collections.deque(maxlen=KEPT)
        self._listeners: list[Callable[[Event], None]] = []
        self._texts: collections.deque[Event] = collections.deque()  # those that have long texts
        self._size = 0  # of these texts, bytes of memory
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
        """Bound events by their number, and long texts in them by their size: oldest first."""
        self._events.append(event)
        size = sum(long_texts(event).values())
        if not size:
            return
        self._texts.append(event)
        self._size += size
        while self._size > MOST_TEXT and len(self._texts) > 1:
            oldest = self._texts.popleft()
            texts = long_texts(oldest)
            self._size -= sum(texts.values())
            oldest.fields.update(dict.fromkeys(texts, GONE))

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


def long_texts(event: Event) -> dict[str, int]:
    """The fields of an event that hold long texts, and how many bytes of memory they take."""
    texts = ((key, sys.getsizeof(one)) for key, one in event.fields.items() if type(one) is str)
    return {key: size for key, size in texts if size > LONG}
