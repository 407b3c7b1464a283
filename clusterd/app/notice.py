"""The drain notice: how an app learns that its worker is leaving, and by when.

An open-ended answer has no moment of its own at which to ask "shall I go on?", and
`http.disconnect` would be a lie: the client is there, and may be told something first. So every
scope (http, websocket and lifespan) carries the extension `clusterd.drain` with two functions,
which any app can call without importing anything of ours:

    wait()  a coroutine: returns once the worker begins to leave
    left()  seconds until what is left here is cut off, or None while the worker serves

`wait` returns what `left` says then. A later order can only shorten it, so ask `left` again.
Nothing of it is made for a request: all scopes of a worker carry the same two functions.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

NAME = "clusterd.drain"


class Notice:
    """One worker's. `extension` is what scopes carry under `NAME`."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._leave_by = 0.0
        self._begun = asyncio.Event()
        self.extension: Mapping[str, Any] = MappingProxyType({"wait": self.wait, "left": self.left})

    def give(self, leave_by: float) -> None:
        """The worker leaves; what still runs is cut off then (monotonic seconds)."""
        self._leave_by = leave_by
        self._begun.set()

    def left(self) -> float | None:
        """Seconds until what is left here is cut off, or None while the worker serves."""
        return max(0.0, self._leave_by - self._clock()) if self._begun.is_set() else None

    async def wait(self) -> float:
        """Return once the worker begins to leave, with the seconds left."""
        await self._begun.wait()
        return max(0.0, self._leave_by - self._clock())
