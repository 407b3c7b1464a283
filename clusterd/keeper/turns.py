"""Waiting, for descriptors and for moments; nothing ticks."""

import selectors
import time
from collections.abc import Callable
from typing import Protocol

Act = Callable[[], object]


class Source(Protocol):
    """Anything with a descriptor that can be waited for."""

    def fileno(self) -> int: ...


class Turns:
    """One wait for all that may happen. Moments have names, and are seconds from now."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._moments: dict[str, tuple[float, Act]] = {}

    def turn(self) -> None:
        """Wait for the next thing, and see to it."""
        now = time.monotonic()
        due = min((when for when, _ in self._moments.values()), default=None)
        for key, _ in self._selector.select(None if due is None else max(0.0, due - now)):
            current = self._selector.get_map().get(key.fd)
            if current is not None and current.data is key.data:  # not closed in this very turn
                key.data()
        now = time.monotonic()
        for name, (when, act) in list(self._moments.items()):
            if when <= now and name in self._moments:
                del self._moments[name]
                act()

    def on(self, source: Source | int, act: Act, write: bool = False) -> None:
        """Have something done whenever a descriptor can be read, or written to."""
        events = selectors.EVENT_WRITE if write else selectors.EVENT_READ
        self._selector.register(source, events, act)

    def off(self, source: Source | int) -> None:
        self._selector.unregister(source)

    def has(self, source: Source | int) -> bool:
        fd = source if isinstance(source, int) else source.fileno()
        return self._selector.get_map().get(fd) is not None

    def at(self, name: str, seconds: float, act: Act) -> None:
        """Have it done in so many seconds, or sooner where that was due already."""
        when = time.monotonic() + seconds
        if name not in self._moments or when < self._moments[name][0]:
            self._moments[name] = when, act

    def waits_for(self, name: str) -> bool:
        return name in self._moments

    def forget(self, name: str) -> None:
        self._moments.pop(name, None)

    def close(self) -> None:
        self._selector.close()
