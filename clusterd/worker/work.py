"""What an application does beside requests, as it reports it: jobs, so far.

The lifespan scope carries the extension `clusterd.worker`, by which an application that serves no
requests learns where it runs, and tells what it does:

    group, slot, generation   of this worker
    report(running, done, failed, oldest)   shown where a web worker shows requests: how many are
            under way, how many ended and how many of those failed, since the start, and when the
            oldest that is under way began (time.monotonic(), 0.0 for none)
    leave(reason)   have this worker replaced
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from clusterd.ipc.scoreboard import Cell

NAME = "clusterd.worker"


class Work:
    """One worker's. `extension` is what the lifespan scope carries under `NAME`."""

    def __init__(
        self, group: str, slot: int, generation: int, leave: Callable[[str], None]
    ) -> None:
        self.is_new = False  # something was reported that is not in the row yet
        self._numbers = (0, 0, 0)  # running, done, failed
        self._oldest = 0.0
        self.extension: Mapping[str, Any] = MappingProxyType(
            {
                "group": group,
                "slot": slot,
                "generation": generation,
                "report": self.report,
                "leave": leave,
            }
        )

    def report(self, running: int, done: int, failed: int = 0, oldest: float = 0.0) -> None:
        """Take what the application tells; it goes to the scoreboard with the next beat."""
        self._numbers = (running, done, failed)
        self._oldest = oldest
        self.is_new = True

    def publish(self, row: memoryview) -> None:
        """Add it to what the server has written of requests."""
        self.is_new = False
        running, done, failed = self._numbers
        if not (running or done):
            return
        row[Cell.IN_FLIGHT] += running
        row[Cell.REQUESTS] += done
        row[Cell.APP_ERRORS] += failed
        if self._oldest and not row[Cell.OLDEST_REQUEST]:
            row[Cell.OLDEST_REQUEST] = int(self._oldest * 1e6)
