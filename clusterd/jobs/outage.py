"""A store that is away: say so once, try again at growing intervals, and say when it is back."""

import asyncio

from clusterd.core.errors import ClusterdError
from clusterd.core.log import get_logger

logger = get_logger("clusterd.jobs")

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0  # seconds between two tries


class Outage:
    """What one process knows of its store being away."""

    def __init__(self) -> None:
        self._is_told = False
        self._pause = FIRST_PAUSE

    def tell(self, error: ClusterdError) -> None:
        """Log that the store is away, unless that is known."""
        if not self._is_told:
            self._is_told = True
            logger.error("the job store is away, and is tried again: %s", error.message)

    async def wait(self) -> None:
        """Wait until it is time for another try."""
        pause, self._pause = self._pause, min(2 * self._pause, LONGEST_PAUSE)
        await asyncio.sleep(pause)

    def end(self) -> None:
        """Take a try that succeeded: the next outage is told, and begins with the first pause."""
        self._pause = FIRST_PAUSE
        if self._is_told:
            self._is_told = False
            logger.info("the job store is back")
