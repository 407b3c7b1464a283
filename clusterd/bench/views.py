"""What pictures show, as numbers: one side under one load, and curves over loads."""

import math
import statistics
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate

from clusterd.bench import figures
from clusterd.bench.figures import BEYOND, Figures, Percentile, lost, percentile
from clusterd.bench.histogram import Histogram
from clusterd.bench.results import Report, Side, Turn
from clusterd.core.terminal import clean

LONGEST = 26  # characters of a side's name in a picture


@dataclass(slots=True)
class View:
    """A side under one load: its turns, in their order. `number` is its place in the report."""

    side: Side
    number: int
    turns: list[Turn]
    latency: Histogram = field(default_factory=Histogram)  # of all its turns
    lost: int = 0  # requests that were never answered

    def __post_init__(self) -> None:
        for turn in self.turns:
            self.latency.add(turn.latency)
            self.lost += lost(turn)

    def percentile(self, percent: float) -> Percentile:
        """Of all requests, lost ones among them."""
        return percentile(percent, self.latency, self.lost)

    @property
    def name(self) -> str:
        """Short enough for a label."""
        return shortened(self.side.name)

    @property
    def throughput(self) -> float:
        """Answers a second: the median of its turns."""
        return statistics.median(turn.throughput for turn in self.turns)

    @property
    def cpu(self) -> float | None:
        """The server's CPU time a request in µs: the median of its turns."""
        known = [turn.cpu_per_request for turn in self.turns if turn.cpu_per_request is not None]
        return statistics.median(known) if known else None


def sound(text: str) -> str:
    """On one line, and with nothing that XML could not carry."""
    return clean(text).encode("utf-8", "replace").decode()


def shortened(name: str, longest: int = LONGEST) -> str:
    """A name with no more characters than that."""
    name = sound(name)
    return name if len(name) <= longest else name[: longest - 1].rstrip() + "…"


def by_load(report: Report, side: Side, number: int) -> list[View]:
    """A side under each load that it had: by rate, then by connections."""
    loads: dict[tuple[float, int], list[Turn]] = {}
    for turn in report.of(side.name):
        if turn.requests:
            loads.setdefault((turn.load.rate, turn.load.connections), []).append(turn)
    return [View(side, number, turns) for _, turns in sorted(loads.items())]


def chosen(found: Sequence[Figures], report: Report) -> list[View]:
    """Each side under the load that speaks for it; sides without an answer are left out."""
    numbers = {side.name: number for number, side in enumerate(report.sides)}
    return [
        View(one.side, numbers[one.side.name], [turn for turn in one.turns if turn.requests])
        for one in found
        if one.requests
    ]


@dataclass(frozen=True, slots=True)
class Curve:
    """A distribution, read by percentile."""

    values: tuple[int, ...]  # µs, ascending
    upto: tuple[int, ...]  # how many are not above each
    lost: int = 0  # were never answered: above all of them

    @classmethod
    def of(cls, histogram: Histogram, lost: int = 0) -> "Curve":
        """From a histogram: much quicker than asking it for each percentile."""
        counts = sorted(histogram.counts().items())
        return cls(tuple(v for v, _ in counts), tuple(accumulate(c for _, c in counts)), lost)

    @property
    def count(self) -> int:
        """How many requests there are, lost ones among them."""
        return (self.upto[-1] if self.upto else 0) + self.lost

    @property
    def nines(self) -> float:
        """Where the curve ends: the place (`at`) that the last value stands for."""
        return math.log10(self.count / max(1, self.lost)) if self.count else 0.0

    @property
    def sure(self) -> float:
        """Up to where enough requests lie beyond for the curve to be more than luck."""
        return min(self.nines, max(0.0, math.log10(max(1, self.count) / BEYOND)))

    def at(self, nines: float) -> int:
        """The value that all but 1 / 10**nines do not exceed: 0 is the least, 2 is p99."""
        rank = max(1, math.ceil(self.count * (1 - 10.0**-nines) - 1e-9))
        return self.values[min(bisect_left(self.upto, rank), len(self.values) - 1)]


@dataclass(frozen=True, slots=True)
class Share:
    """What one worker did of a turn, by what all of them did on average: 1.0 is its fair share."""

    view: View
    shares: tuple[float, ...]
    by_cpu: bool  # requests were not known: CPU time instead


def balance(views: Sequence[View]) -> list[Share]:
    """The workers of each side that has several, over all turns in which none came or went."""
    made = []
    for view in views:
        turns = [turn for turn in view.turns if figures.balance(turn, True) is not None]
        uses = [turn.server for turn in turns if turn.server is not None]
        by_cpu = not all(len(use.requests_by_worker) > 1 for use in uses)
        shares: list[float] = []
        for use in uses:
            counted = use.cpu_by_worker if by_cpu else use.requests_by_worker
            mean = sum(counted.values()) / len(counted) if counted else 0
            if len(counted) > 1 and mean:
                shares += [one / mean for one in counted.values()]
        if shares:
            made.append(Share(view, tuple(shares), by_cpu))
    return made


def family(views: Sequence[View]) -> list[View]:
    """The same server with different numbers of workers, ascending; [] where there are not three.

    Sides are the same server if one command serves them.
    """
    kinds: dict[str, dict[int, View]] = {}
    for view in views:
        if view.side.workers and view.side.command:
            kinds.setdefault(view.side.command, {})[view.side.workers] = view
    most = max(kinds.values(), key=len, default={})
    return [most[workers] for workers in sorted(most)] if len(most) >= 3 else []
