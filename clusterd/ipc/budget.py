"""How much one process may say to the master: so many messages and bytes at once, and a second."""

from dataclasses import dataclass
from math import inf

MESSAGES = (256, 64.0)  # at once, and a second; a worker that does as it should says two a second
BYTES = (4 * 1024 * 1024, 1024 * 1024.0)  # some 64 messages of the largest size, then 16 a second
# What comes through a dump pipe comes in pieces: faulthandler writes some six a line.
PIECES = (32 * 1024, 256.0)


@dataclass(slots=True)
class Bucket:
    """A token bucket that starts full."""

    size: int
    rate: float  # tokens a second
    level: float = inf
    since: float = 0.0

    def take(self, now: float, count: float) -> bool:
        """Take tokens; False where there are fewer, and all of them are gone then."""
        self.level = min(self.size, self.level + (now - self.since) * self.rate) - count
        self.since = now
        if self.level >= 0:
            return True
        self.level = 0.0
        return False


class Budget:
    """The budget of one speaker: messages and their bytes."""

    __slots__ = ("bytes", "count")

    def __init__(self, count: tuple[int, float] = MESSAGES) -> None:
        self.count = Bucket(*count)
        self.bytes = Bucket(*BYTES)

    def spend(self, now: float, size: int) -> str:
        """Count a message; what is exceeded, in words, or ''."""
        if not self.count.take(now, 1):
            return f"{self.count.size} messages at once and {self.count.rate:.0f} a second"
        if not self.bytes.take(now, size):
            return f"{self.bytes.size} bytes at once and {self.bytes.rate:.0f} a second"
        return ""
