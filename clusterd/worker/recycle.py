"""Recycling: a worker that has served long enough asks to be replaced, and serves until it is.

It judges itself at each beat of its pulse, so the master need not wake for it; a limit on
requests is thus overshot by what comes within a second. The master then starts the replacement
first, one at a time in a group, and only a ready one lets the old worker go.
"""

import random
import time
from collections.abc import Callable

from clusterd.config.running import VitalsSettings
from clusterd.core.log import get_logger
from clusterd.core.recycling import MEMORY_EVERY, Limits, Scales, verdict
from clusterd.ipc.messages import Leaving
from clusterd.ipc.scoreboard import Cell, Stage
from clusterd.kernel import usage
from clusterd.worker.pulse import PERIOD, Pulse

logger = get_logger("clusterd.worker")

EVERY = int(MEMORY_EVERY / PERIOD)  # beats between two looks at the memory


class Recycling:
    """One worker's. `look` is called at each beat; `ask` at most once, with the reason."""

    def __init__(
        self,
        limits: Limits,
        row: memoryview,
        born: float,
        ask: Callable[[str], None],
        measure: Callable[[], usage.Usage] = usage.of,
    ) -> None:
        self._limits = limits
        self._row = row
        self._born = born
        self._ask: Callable[[str], None] | None = ask
        self._measure: Callable[[], usage.Usage] | None = measure if limits.memory else None
        self._beats = 0
        self._scales = Scales(limits.memory)

    def look(self, now: float) -> None:
        """Judge, at a beat. Before it is ready and once it drains, nobody can be replaced."""
        if self._row[Cell.PHASE] != Stage.READY or self._ask is None:
            return
        if self._measure is not None:
            self._beats += 1
            if self._beats % EVERY == 0:
                self._weigh(self._measure)
        why = verdict(self._limits, self._row[Cell.REQUESTS], now - self._born, self._scales)
        if why:
            ask, self._ask = self._ask, None
            ask(why)

    def _weigh(self, measure: Callable[[], usage.Usage]) -> None:
        try:
            size = measure().uss
        except OSError as error:
            logger.warning("max_memory is without effect: memory cannot be read: %s", error)
            self._measure = None
            return
        self._row[Cell.MEMORY] = size
        self._scales.weigh(size)


def attend(
    pulse: Pulse, row: memoryview, vitals: VitalsSettings, say: Callable[[Leaving, bool], None]
) -> None:
    """Have a worker judge itself at each beat, where any limit is set. `say` tells the master."""
    limits = Limits.drawn(
        vitals.max_requests,
        vitals.max_requests_jitter,
        vitals.max_age,
        vitals.max_memory,
        random.random,
    )
    if limits:

        def ask(reason: str) -> None:
            say(Leaving(reason, recycle=True), True)

        pulse.every.append(Recycling(limits, row, time.monotonic(), ask).look)
