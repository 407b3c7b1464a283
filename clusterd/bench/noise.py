"""How far a figure can be trusted: what turns that should have been equal say about chance.

The unit is the turn, never the request or the interval: a server that is started afresh differs
from its last start by more than its requests differ among themselves, so those, however many,
would make any two starts look different (Kalibera and Jones, "Rigorous benchmarking in reasonable
time", 2013). Few turns give wide intervals, and that is the truth about few turns.
"""

import functools
import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Spread:
    """One figure of several turns, in their order: the middle, and how far they lie apart."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """Half of the turns are not above it."""
        return statistics.median(self.values)

    @property
    def low(self) -> float:
        """The lowest of the turns."""
        return min(self.values)

    @property
    def high(self) -> float:
        """The highest of the turns."""
        return max(self.values)

    @property
    def count(self) -> int:
        """How many turns."""
        return len(self.values)

    @property
    def relative(self) -> float:
        """From the lowest to the highest, as a share of the median."""
        return (self.high - self.low) / abs(self.median) if self.median else 0.0


@dataclass(frozen=True, slots=True)
class Ratio:
    """How many times as much one figure is than another, and where that lies with 95 %."""

    value: float
    low: float | None = None  # None: a single turn does not say how turns differ
    high: float | None = None
    turns: int = 1  # of the side that had fewer

    @property
    def told(self) -> bool:
        """Whether it is more than noise: the interval lies all on one side of 1."""
        return self.low is not None and self.high is not None and not self.low <= 1 <= self.high


def spread(values: Sequence[float | None]) -> Spread | None:
    """Of the turns that have the figure; None where none has it."""
    known = tuple(value for value in values if value is not None)
    return Spread(known) if known else None


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> Ratio | None:
    """How many times `theirs` our figures are: Welch's interval on their logarithms.

    Logarithms, since what disturbs a machine takes a share of its speed, and so that the inverse
    ratio has the inverse interval. Not paired by round: two rounds would leave one degree of
    freedom. None where a figure is not above zero.
    """
    if not ours or not theirs or min(*ours, *theirs) <= 0:
        return None
    logs, others = [math.log(one) for one in ours], [math.log(one) for one in theirs]
    middle = statistics.mean(logs) - statistics.mean(others)
    turns = min(len(ours), len(theirs))
    if turns < 2:
        return Ratio(math.exp(middle), turns=turns)
    half = _welch(logs, others)
    return Ratio(math.exp(middle), _exp(middle - half), _exp(middle + half), turns)


def difference(ours: Sequence[float], theirs: Sequence[float]) -> tuple[float, float, float] | None:
    """How much more ours are on average, and the ends of its Welch interval; None: too few."""
    if min(len(ours), len(theirs)) < 2:
        return None
    middle, half = statistics.mean(ours) - statistics.mean(theirs), _welch(ours, theirs)
    return middle, middle - half, middle + half


def _exp(power: float) -> float:
    """Intervals of two wildly differing turns reach beyond what a float holds."""
    return math.exp(min(power, 700.0))


def _welch(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Half the width of the interval of a difference of means whose variances may differ."""
    parts = [statistics.variance(turns) / len(turns) for turns in (ours, theirs)]
    error = sum(parts)
    if not error:
        return 0.0
    shares = [part / error for part in parts]  # of tiny variances the squares would vanish
    terms = zip(shares, (ours, theirs), strict=True)
    freedom = 1 / sum(share**2 / (len(turns) - 1) for share, turns in terms)
    return student(freedom) * math.sqrt(error)


@functools.lru_cache(256)
def student(freedom: float, confidence: float = CONFIDENCE) -> float:
    """How many standard errors to both sides hold the truth, for so many degrees of freedom."""
    outside = 1 - confidence
    return _bisect(lambda t: _beyond(t, freedom) > outside, 1.0)


def _bisect(below: Callable[[float], bool], start: float) -> float:
    """Where something that holds below a positive number ceases to."""
    low, high = 0.0, start
    while below(high) and high < 1e12:
        low, high = high, high * 2
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if below(middle) else (low, middle)
    return high


def _beyond(t: float, freedom: float) -> float:
    """How likely Student's t is further from zero than that, to either side."""
    return _beta(freedom / (freedom + t * t), freedom / 2, 0.5)


def _beta(x: float, a: float, b: float) -> float:
    """The regularised incomplete beta function, by its continued fraction (DLMF 8.17.22)."""
    if x in (0.0, 1.0):
        return x
    if x > (a + 1) / (a + b + 2):  # beyond, the fraction hardly converges
        return 1 - _beta(1 - x, b, a)
    front = math.exp(
        math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    )
    # From the inside out; the more degrees of freedom, the deeper what still matters.
    value = 1.0
    for m in range(20 + int(4 * math.sqrt(a)), 0, -1):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m - 1) * (a + b + m - 1) * x / ((a + 2 * m - 2) * (a + 2 * m - 1))
        value = 1 + odd / (1 + even / value)
    return front / (a * value)
