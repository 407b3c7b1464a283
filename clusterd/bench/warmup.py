"""Where a turn's warm-up ends: a rule, so that nobody's feeling decides what counts.

The rule is MSER (White, "An effective truncation heuristic for bias reduction in simulation
output", 1997): leave out so many intervals at the front that the mean of the rest is known best,
its squared standard error (s² / n) being smallest, and never more than half. It is asked of the
throughput and of the median latency, and the longer of both answers counts.

Plain MSER has a fault that matters here: a server that stalls in the first half is cut off together
with its stall, and the report says that nothing happened. So two things are added. What strays far
from the second half is drawn in, so that one bad interval does not outweigh the rest. And a warm-up
ends for good where intervals first look like those of the second half: what comes later is
behaviour of the server, however odd.
"""

import math
import statistics
from collections.abc import Callable, Sequence

from clusterd.bench.results import Moment

FEWEST = 4  # intervals: of fewer, nothing is cut
SETTLED = 2  # intervals in a row that look like the second half end the warm-up
BAND = 3.0  # times the usual deviation that still looks alike
DRAWN_IN = 6.0  # times the usual deviation that counts at most
THROUGHPUT_FLOOR = 0.03  # of the median: less than that is no deviation, whatever the others do
LATENCY_FLOOR = 0.05
_NORMAL = 1.4826  # a median absolute deviation times this is a standard deviation

Series = list[float | None]  # in usual deviations from the second half; None: no request in it


def cut(moments: Sequence[Moment]) -> int:
    """How many intervals at the front of a turn are its warm-up. At most half of them."""
    if len(moments) < FEWEST or not _answering(moments):
        return 0
    both = _both(moments)
    end = settled(moments)
    most = len(moments) // 2 if end is None else min(end, len(moments) // 2)
    return max(_mser(series, most) for series in both)


def settled(moments: Sequence[Moment]) -> int | None:
    """The first interval that looks like the second half, and the next too; None: none does.

    None means that the turn was too short for its warm-up, or that there is no steady state: the
    second half is then no warm server either. Where that has no answers, nothing looks like it.
    """
    if not _answering(moments):
        return None
    both = _both(moments)
    inside = [
        all(abs(series[n] or 0.0) <= BAND for series in both)  # no request has no latency
        for n in range(len(moments))
    ]
    for first in range(len(moments) // 2 + 1):
        following = inside[first : first + SETTLED]
        if following and all(following):
            return first
    return None


def _answering(moments: Sequence[Moment]) -> bool:
    """Whether the second half says how the server is when warm: a dead one does not."""
    return statistics.median([m.requests > 0 for m in moments[len(moments) // 2 :]]) >= 0.5


def _both(moments: Sequence[Moment]) -> list[Series]:
    """Throughput and median latency."""
    counts: Series = [float(moment.in_time) for moment in moments]
    medians: Series = [
        float(moment.latency.percentile(50)) if moment.latency.count else None for moment in moments
    ]
    usual = statistics.median(moment.in_time for moment in moments[len(moments) // 2 :])
    # Of few requests, chance alone takes or adds as many as the root of their number; and as for
    # their median latency, that strays by about the root's inverse.
    chance = math.sqrt(max(usual, 1.0))
    return [
        _deviations(counts, lambda median: max(THROUGHPUT_FLOOR * median, chance)),
        _deviations(medians, lambda median: max(LATENCY_FLOOR, 1 / chance) * median + 1),
    ]


def _deviations(series: Series, floor: Callable[[float], float]) -> Series:
    """Each by how many usual deviations it differs from the median of the second half."""
    steady = [value for value in series[len(series) // 2 :] if value is not None]
    if not steady:
        return [None] * len(series)
    middle = statistics.median(steady)
    usual = _NORMAL * statistics.median(abs(value - middle) for value in steady)
    unit = max(usual, floor(middle))
    return [
        None if value is None else max(-DRAWN_IN, min(DRAWN_IN, (value - middle) / unit))
        for value in series
    ]


def _mser(series: Series, most: int) -> int:
    """How many of the first to leave out, so that the mean of the rest is known best."""
    best, chosen = math.inf, 0
    for first in range(most + 1):
        rest = [value for value in series[first:] if value is not None]
        if not rest:
            break
        mean = sum(rest) / len(rest)
        error = sum((value - mean) ** 2 for value in rest) / len(rest) ** 2
        if error < best:
            best, chosen = error, first
    return chosen
