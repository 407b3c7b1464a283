"""Which load comes next, from what became of those before: pure, so tested without any server.

A plan is asked after each turn of a side in a round. What it knows are those turns.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from clusterd.bench.load import Load
from clusterd.bench.results import EARLY_END, Search, Turn

FIRST = 1000.0  # requests a second that a search begins with
GROWTH = 4.0  # what it multiplies by until a rate is too high, or not yet low enough
NEAR = 1.05  # the highest rate is found once the next one that is too high is this much higher
LOWEST = 1.0  # requests a second: below that nobody searches
PROBES = 16  # turns of a search at most, beside those that confirm it
SHORT = 1 / 3  # share of the duration that a probe lasts
STEP_BACK = 0.8  # what was found and did not last is tried again at this share
CONFIRMATIONS = 6
HELD = 0.95  # share of the rate that must have been answered, else the server falls behind
TOLERATED = 0.001  # share of errors that keeps a target still
WAITED = 0.1  # share of requests that waited for a connection from which those may be too few
BROKEN_OFF = 0.05  # share of errors at which a ladder of connections ends

Keeps = Callable[[Turn], bool]


class Plan(Protocol):
    """What a side is driven with in a round."""

    def next(self, turns: Sequence[Turn]) -> Load | None:
        """The load of the next turn, after these of the same side and round; None: enough."""


@dataclass(frozen=True, slots=True)
class Fixed:
    """One load after the other, whatever becomes of them."""

    loads: tuple[Load, ...]

    def next(self, turns: Sequence[Turn]) -> Load | None:
        """See Plan."""
        return self.loads[len(turns)] if len(turns) < len(self.loads) else None


@dataclass(frozen=True, slots=True)
class Connections:
    """More and more connections, until a server no longer holds them."""

    load: Load
    low: int
    high: int

    def next(self, turns: Sequence[Turn]) -> Load | None:
        """See Plan. A step is four times the one before; the last is `high` itself."""
        if not turns:
            return replace(self.load, connections=self.low)
        last = turns[-1]
        if last.load.connections >= self.high or not holds(last):
            return None
        wanted = min(self.high, last.load.connections * 4)
        return replace(self.load, connections=wanted)


def holds(turn: Turn) -> bool:
    """Whether a server held the connections of a turn: it answered, and nearly all."""
    return turn.requests > 0 and turn.failed <= BROKEN_OFF * (turn.requests + turn.failed)


def keeps_up(turn: Turn) -> bool:
    """Whether a server answered as much as was asked, and without errors worth mentioning."""
    asked = turn.requests + turn.failed
    return (
        turn.requests > 0
        and not turn.partial
        and turn.requests >= HELD * turn.load.rate * turn.seconds
        and turn.failed <= TOLERATED * asked
    )


@dataclass(frozen=True, slots=True)
class Highest:
    """The highest rate that keeps a target: up in large steps, then halving what is between."""

    load: Load
    keeps: Keeps  # the target, of a turn

    def next(self, turns: Sequence[Turn]) -> Load | None:
        """See Plan."""
        probes = [turn for turn in turns if turn.load.duration < self.load.duration]
        confirmations = turns[len(probes) :]
        if not confirmations and (rate := self._probe(probes)):
            return replace(self.load, rate=rate, duration=self.load.duration * SHORT)
        low, _ = self._between(probes)
        if not low or any(self._kept(turn) for turn in confirmations):
            return None
        if len(confirmations) == CONFIRMATIONS:
            return None
        return replace(self.load, rate=_tidy(low * STEP_BACK ** len(confirmations)))

    def found(self, turns: Sequence[Turn]) -> tuple[float, list[Turn]]:
        """The rate, 0 where there is none; and the turns that did not keep the target."""
        whole = [turn.load.rate for turn in turns if self._is_whole(turn) and self._kept(turn)]
        return max(whole, default=0.0), [turn for turn in turns if not self._kept(turn)]

    def highest(self, turns: Sequence[Turn]) -> float:
        """The highest rate of any turn, however short, that kept the target; 0: none did."""
        return max((turn.load.rate for turn in turns if self._kept(turn)), default=0.0)

    def _is_whole(self, turn: Turn) -> bool:
        return turn.load.duration >= self.load.duration

    def _kept(self, turn: Turn) -> bool:
        return keeps_up(turn) and self.keeps(turn)

    def _between(self, probes: Sequence[Turn]) -> tuple[float, float]:
        """The highest rate that was kept (0: none), and the lowest above it that was not (inf)."""
        bad = [turn.load.rate for turn in probes if not self._kept(turn)]
        high = min(bad, default=math.inf)
        good = [turn.load.rate for turn in probes if self._kept(turn)]
        return max(good, default=0.0), high

    def _probe(self, probes: Sequence[Turn]) -> float:
        """The next rate to try; 0: enough is known."""
        if not probes:
            return FIRST
        low, high = self._between(probes)
        if len(probes) >= PROBES or (low and high / low <= NEAR):
            return 0.0
        if not low:
            return _tidy(high / GROWTH) if high > LOWEST else 0.0
        if math.isinf(high):
            return _tidy(low * GROWTH)
        return _tidy(self._guess(probes, low, high))

    def _guess(self, probes: Sequence[Turn], low: float, high: float) -> float:
        """Between both. A server that fell behind has shown what it can answer: try that first."""
        shown = next(turn.throughput for turn in probes if turn.load.rate == high)
        if low * NEAR < shown < high / NEAR:
            return shown
        return math.sqrt(low * high)


def _tidy(rate: float) -> float:
    """Three digits: what people would have typed."""
    if rate <= LOWEST:
        return LOWEST
    digits = 2 - math.floor(math.log10(rate))
    return round(rate, digits)


def searched(slo: str, side: str, plan: Highest, rounds: Sequence[Sequence[Turn]]) -> Search | None:
    """What the searches of a side came to: the middle one of its rounds, the lower of two.

    Of rounds that were broken off only where there is no other: then the highest rate that was kept
    until then. None where nothing was, since that does not say that no rate would be.
    """
    whole = [turns for turns in rounds if turns and plan.next(turns) is None]
    if not whole:
        rate = max(map(plan.highest, rounds), default=0.0)
        return Search(slo, side, rate, EARLY_END) if rate else None
    found = sorted(map(plan.found, whole), key=lambda one: one[0])
    rate, failing = found[(len(found) - 1) // 2]
    return Search(slo, side, rate, _bound(failing))


def _bound(failing: Sequence[Turn]) -> str:
    """What kept it from going higher: the lowest rate that was too high tells."""
    if not failing:
        return ""
    lowest = min(failing, key=lambda turn: turn.load.rate)
    use = lowest.generator
    if max(use.busiest, use.wanted) >= 0.95:
        return "generator"
    # More of them would tell which.
    return "server or the connections" if lowest.waited > WAITED * lowest.requests else "server"
