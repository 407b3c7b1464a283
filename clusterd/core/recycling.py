"""How long a process of a group may serve, and whether it has. Pure.

In this room since both judge by it: a worker itself, and the keeper of a program.
"""

from collections.abc import Callable
from dataclasses import dataclass

from clusterd.core.units import show_bytes, show_seconds

MEMORY_EVERY = 15.0  # seconds between two looks at the memory: a look costs milliseconds
IN_A_ROW = 3  # looks that must be over the limit: one large answer is no leak
SPREAD = 0.1  # part of a limit that chance adds, so that workers do not go together


@dataclass(frozen=True, slots=True)
class Limits:
    """What one process may do; 0 for no limit. Drawn once, by chance."""

    requests: int = 0
    age: float = 0.0  # seconds
    memory: int = 0  # bytes of its own

    @classmethod
    def drawn(
        cls, requests: int, jitter: int, age: float, memory: int, chance: Callable[[], float]
    ) -> "Limits":
        """Limits from the settings; `chance` is 0..1, and may only lengthen a life.

        A `jitter` of 0 is a tenth of `requests`.
        """
        most = jitter or int(requests * SPREAD)
        more = round(most * chance()) if requests else 0
        return cls(requests + more, age * (1.0 + SPREAD * chance()), memory)

    def __bool__(self) -> bool:
        return bool(self.requests or self.age or self.memory)


@dataclass(slots=True)
class Scales:
    """Looks at the memory: the latest in a row that were over the limit."""

    limit: int
    heavy: tuple[int, ...] = ()
    looks: int = 0

    def weigh(self, size: int) -> None:
        """One look."""
        self.looks += 1
        self.heavy = (*self.heavy, size)[-IN_A_ROW:] if size > self.limit else ()

    @property
    def verdict(self) -> str:
        """Why its memory is reason to replace it, or ''."""
        if len(self.heavy) < IN_A_ROW:
            return ""
        grown = ", ".join(show_bytes(size) for size in self.heavy)
        always = ": it was beyond it from the first look on" if self.looks == IN_A_ROW else ""
        return f"max_memory: {grown} in a row, the limit is {show_bytes(self.limit)}{always}"


def verdict(limits: Limits, requests: int, age: float, scales: Scales) -> str:
    """Why a process is to be replaced, or ''."""
    if limits.requests and requests >= limits.requests:
        return f"max_requests: {requests} served, its limit was {limits.requests}"
    if limits.age and age >= limits.age:
        return f"max_age: {show_seconds(age)} old, its limit was {show_seconds(limits.age)}"
    return scales.verdict if limits.memory else ""
