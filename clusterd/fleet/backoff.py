"""How long to wait before starting again what keeps dying young."""

from dataclasses import dataclass

FIRST = 0.1  # seconds, doubling
LONGEST = 30.0
GROWN_UP = 10.0  # seconds up after which a death is no longer a young one


@dataclass(slots=True)
class Backoff:
    """The tally of one slot, or of a generation's zygote."""

    deaths: int = 0  # young ones in a row
    until: float = 0.0  # not before this (monotonic seconds)
    first_death: float = 0.0
    unborn: int = 0  # of the deaths, those for want of a process: the system's fault

    def died(self, now: float, uptime: float, jitter: float, unborn: bool = False) -> float:
        """Count a death; the delay before the next start. `jitter` in 0..1, from the caller.

        The first young death is replaced at once: most are one-offs, and a slot's emptiness
        costs more than a second try. What was never born for want of something gets no such
        free try: what is short stays so for a while.
        """
        if uptime >= GROWN_UP:
            self.deaths = self.unborn = 0
            self.until = now
            return 0.0
        if self.deaths == 0:
            self.first_death = now
        self.deaths += 1
        self.unborn += unborn
        wait = delay(self.deaths + (self.unborn > 0), jitter)
        self.until = now + wait
        return wait


def delay(deaths: int, jitter: float) -> float:
    """Seconds before start number deaths + 1: 0, 0.1, 0.2, 0.4 … 30, less up to a fifth."""
    if deaths <= 1:
        return 0.0
    return min(LONGEST, FIRST * 2.0 ** min(deaths - 2, 16)) * (1.0 - 0.2 * jitter)
