"""Recycling: a worker that has served long enough asks to be replaced, and serves until it is.

It judges itself at each beat of its pulse, so the master need not wake for it; a limit on
requests is thus overshot by what comes within a second. The master then starts the replacement
first, one at a time in a group, and only a ready one lets the old worker go.
"""

import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from clusterd.config.running import VitalsSettings
from clusterd.core.units import show_bytes, show_seconds
from clusterd.ipc.messages import Leaving
from clusterd.ipc.scoreboard import Cell, Stage
from clusterd.kernel import usage
from clusterd.worker.pulse import Pulse

logger = logging.getLogger("clusterd.worker")

EVERY = 15  # beats, of a second each, between two looks at the memory: a look costs milliseconds
IN_A_ROW = 3  # looks that must be over the limit: one large answer is no leak
SPREAD = 0.1  # part of a limit that chance adds, so that workers do not go together


@dataclass(frozen=True, slots=True)
class Limits:
    """What one worker may do; 0 for no limit. Drawn once, by chance."""

    requests: int = 0
    age: float = 0.0  # seconds
    memory: int = 0  # bytes of its own

    @classmethod
    def drawn(cls, vitals: VitalsSettings, chance: Callable[[], float]) -> "Limits":
        """The limits of a worker; `chance` is 0..1, and may only lengthen a life.

        A max_requests_jitter of 0 is a tenth of max_requests.
        """
        most = vitals.max_requests_jitter or int(vitals.max_requests * SPREAD)
        more = round(most * chance()) if vitals.max_requests else 0
        age = vitals.max_age * (1.0 + SPREAD * chance())
        return cls(vitals.max_requests + more, age, vitals.max_memory)

    def __bool__(self) -> bool:
        return bool(self.requests or self.age or self.memory)


def verdict(limits: Limits, requests: int, age: float, heavy: list[int]) -> str:
    """Why a worker is to be replaced, or ''. `heavy`: its latest samples of memory over the limit,
    in a row.
    """
    if limits.requests and requests >= limits.requests:
        return f"max_requests: {requests} served, its limit was {limits.requests}"
    if limits.age and age >= limits.age:
        return f"max_age: {show_seconds(age)} old, its limit was {show_seconds(limits.age)}"
    if len(heavy) >= IN_A_ROW:
        grown = ", ".join(show_bytes(size) for size in heavy)
        return f"max_memory: {grown} in a row, the limit is {show_bytes(limits.memory)}"
    return ""


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
        self._heavy: list[int] = []

    def look(self, now: float) -> None:
        """Judge, at a beat. Before it is ready and once it drains, nobody can be replaced."""
        if self._row[Cell.PHASE] != Stage.READY or self._ask is None:
            return
        if self._measure is not None:
            self._beats += 1
            if self._beats % EVERY == 0:
                self._weigh(self._measure)
        why = verdict(self._limits, self._row[Cell.REQUESTS], now - self._born, self._heavy)
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
        self._heavy = [*self._heavy, size] if size > self._limits.memory else []


def attend(
    pulse: Pulse, row: memoryview, vitals: VitalsSettings, say: Callable[[Leaving, bool], None]
) -> None:
    """Have a worker judge itself at each beat, where any limit is set. `say` tells the master."""
    limits = Limits.drawn(vitals, random.random)
    if limits:

        def ask(reason: str) -> None:
            say(Leaving(reason, recycle=True), True)

        pulse.every.append(Recycling(limits, row, time.monotonic(), ask).look)
