"""What a report's turns come to: the figures of each side under each load.

Percentiles are those of all requests of all turns together, by adding their histograms: the mean
of two turns' p99 is nobody's p99. How far turns lie apart is told by the turns' own.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from clusterd.bench import amounts, interval, noise
from clusterd.bench.histogram import Histogram, rank
from clusterd.bench.load import Load
from clusterd.bench.noise import Ratio, Spread
from clusterd.bench.results import EARLY_END, Report, Side, Spin, Turn

PERCENTS = (50.0, 75.0, 90.0, 99.0, 99.9, 99.99)
BEYOND = 10  # requests that must lie beyond a percentile for it to be more than a matter of luck
DRAIN = 1.0  # seconds that the open loop takes answers after its end, see `paced`
APART = 0.1  # of the median: throughputs of turns that lie further apart are worth a doubt
FEW, LOST = "few", "lost"
_NUMBER = re.compile(r"\d[\d.,]*")


@dataclass(frozen=True, slots=True)
class Percentile:
    """A latency that so many percent of all requests did not exceed, in µs.

    `why` is empty where the value can be shown plainly. FEW: fewer than `BEYOND` requests lie
    beyond it, so it says little but what the slowest happened to be. LOST: more requests than lie
    beyond it were never answered, so nobody knows how long they would have taken; no value.
    """

    percent: float
    value: int | None
    why: str = ""
    low: int | None = None  # of the turns' own, where at least two carry it
    high: int | None = None


@dataclass(frozen=True, slots=True)
class Speedup:
    """How much more a side does than the one of the same server with the fewest workers."""

    over: str  # the name of that
    workers: float  # how many times its workers
    cores: float  # how many times its cores: no more than there are workers, or cores
    throughput: Ratio | None = None  # closed loop; in the open one the rate is given
    rate: float | None = None  # of a search: the found rate by that of the other
    cpu: Ratio | None = None  # its CPU time a request by ours: 0.9 is 11 % dearer
    efficiency: float | None = None  # speed-up by cores: 1 is all that cores can give
    fair: float | None = None  # the same by what a bare spin on as many cores reached
    fair_cpu: float | None = None  # `cpu` by what a CPU second was worth in that spin


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one side under one load, over all its turns."""

    side: Side
    load: Load
    turns: tuple[Turn, ...]
    requests: int  # answered
    failed: int
    errors: dict[str, int]
    lost: int  # requests that were never answered: they are slower than any in percentiles
    throughput: Spread  # answers a second
    latency: Histogram
    mean: float  # µs
    max: int  # µs
    percentiles: dict[str, Percentile]  # by "p50" and so on
    lag: Histogram | None
    connections: int  # most held at once, in the best of the turns
    streamed: float  # server-sent events a second, of all turns
    cpu: Spread | None  # µs of the server's CPU time a request
    pss: Spread | None  # bytes
    balance: Spread | None  # most by the mean of what workers did: 1 is even
    balance_by_cpu: bool  # of CPU time, for a server that does not tell its workers' requests
    doubts: tuple[str, ...]
    partial: bool  # at least one turn ended before its time
    speedup: Speedup | None = None

    @property
    def error_share(self) -> float:
        """Errors by all that was tried, 0 to 1: connections that could not be made, too."""
        return self.failed / self.tried if self.tried else 0.0

    @property
    def tried(self) -> int:
        """Answers, and what ended in none: statuses are both an answer and an error."""
        refused = sum(many for kind, many in self.errors.items() if kind.startswith("status "))
        return self.requests + max(self.lost, self.failed - refused)


def figures(report: Report) -> list[Figures]:
    """One for each side and load, in the order in which the report has them."""
    found = [
        _over(side, load, [turn for turn in report.of(side.name) if turn.load == load])
        for side in report.sides
        for load in _loads(report.of(side.name))
    ]
    return [_compared(report, one, [o for o in found if o.load == one.load]) for one in found]


def main(report: Report) -> list[Figures]:
    """One for each side that answered: of several loads the one that speaks for it.

    That is the rate that a search found for it, else the load under which it answered most.
    """
    rates = {search.side: search.rate for search in report.searches if search.rate}
    every, chosen = figures(report), []
    for side in report.sides:
        own = [one for one in every if one.side.name == side.name]
        at = [one for one in own if one.load.rate == rates.get(side.name)]
        if at:
            own = [one for one in at if one.load.duration == max(o.load.duration for o in at)]
        if own:
            chosen.append(max(own, key=lambda one: one.throughput.median))
    return [_compared(report, one, chosen) for one in chosen]


def of_turn(turn: Turn) -> Figures:
    """One turn by itself."""
    return _over(Side(turn.side), turn.load, [turn])


def unanswered(load: Load, errors: dict[str, int]) -> int:
    """How many requests were never answered, of a turn's errors.

    A status was an answer. Connections that could not be made were no requests, except where each
    request makes its own; the others' requests waited, and their latency says so.
    """
    return sum(
        many
        for kind, many in errors.items()
        if not kind.startswith("status ")
        and (load.fresh or kind not in (interval.CONNECT, interval.LIMIT, interval.TLS))
    )


def lost(turn: Turn) -> int:
    """Requests of a turn that count as slower than any that was answered.

    Those that failed without an answer. In the open loop also what was due and had none at the end:
    its backlog, which would have waited longer than all before it; and what was still under way
    after answers had had a while to come, unless that many are always so late.
    """
    failed = unanswered(turn.load, turn.errors)
    if not turn.load.rate or not turn.moments or turn.partial:
        return failed  # of a closed loop, and where it was cut off, some are always under way
    usual = _late(turn)
    stuck = turn.unanswered if turn.unanswered > 2 * usual + 3 * math.sqrt(usual) else 0
    return failed + turn.moments[-1].behind + stuck


def _late(turn: Turn) -> float:
    """How many requests are under way for longer than the end waits, in a steady state."""
    limit = min(turn.load.timeout, DRAIN) * 1e6
    if not turn.unanswered or turn.latency.max <= limit:
        return 0.0
    beyond = sum((us - limit) * many for us, many in turn.latency.counts().items() if us > limit)
    return beyond / 1e6 / turn.seconds if turn.seconds else 0.0


def percentile(percent: float, latency: Histogram, missing: int = 0) -> Percentile:
    """One percentile of all requests: the lost ones took longer than any that was answered."""
    answered = latency.count
    wanted = rank(answered + missing, percent)
    if wanted > answered:
        return Percentile(percent, None, LOST if missing else FEW)
    value = latency.ranked((wanted,))[0]
    # A hair less than BEYOND is BEYOND: 1 % of 1,000 is not quite 10 in binary.
    beyond = (answered + missing) * (100 - percent) / 100 + 1e-6
    return Percentile(percent, value, FEW if beyond < BEYOND else "")


def label(percent: float) -> str:
    """`p99.9`."""
    return f"p{percent:g}"


def _loads(turns: Sequence[Turn]) -> list[Load]:
    """Without repeats. A load has bodies, so its hash is dearer than looking through a few."""
    found: list[Load] = []
    for turn in turns:
        if turn.load not in found:
            found.append(turn.load)
    return found


def _over(side: Side, load: Load, turns: Sequence[Turn]) -> Figures:
    """All that needs no other side."""
    latency, errors = Histogram(), dict[str, int]()
    for turn in turns:
        latency.add(turn.latency)
        for kind, many in turn.errors.items():
            errors[kind] = errors.get(kind, 0) + many
    throughput = Spread(tuple(turn.throughput for turn in turns))
    seconds, streamed = sum(turn.seconds for turn in turns), sum(t.sse_events for t in turns)
    uses = [turn.server for turn in turns if turn.server is not None]
    by_cpu = not any(len(use.requests_by_worker) > 1 for use in uses)
    missing = sum(map(lost, turns))
    return Figures(
        side=side,
        load=load,
        turns=tuple(turns),
        requests=sum(turn.requests for turn in turns),
        failed=sum(errors.values()),
        errors=dict(sorted(errors.items(), key=lambda item: -item[1])),
        lost=missing,
        throughput=throughput,
        latency=latency,
        mean=latency.mean,
        max=latency.max,
        percentiles={
            label(p): _with_spread(percentile(p, latency, missing), turns) for p in PERCENTS
        },
        lag=_lag(turns),
        connections=max(turn.connections for turn in turns),
        streamed=streamed / seconds if seconds else 0.0,
        cpu=noise.spread([turn.cpu_per_request for turn in turns]),
        pss=noise.spread([use.pss or None for use in uses]),
        balance=noise.spread([balance(turn, by_cpu) for turn in turns]),
        balance_by_cpu=by_cpu,
        doubts=_doubts(turns, throughput),
        partial=any(turn.partial for turn in turns),
    )


def _with_spread(merged: Percentile, turns: Sequence[Turn]) -> Percentile:
    """With the lowest and highest of the turns' own, where two of them carry it."""
    own = [percentile(merged.percent, turn.latency, lost(turn)) for turn in turns]
    values = [one.value for one in own if one.value is not None and not one.why]
    if len(values) < 2:
        return merged
    return replace(merged, low=min(values), high=max(values))


def _lag(turns: Sequence[Turn]) -> Histogram | None:
    """Of those in the open loop."""
    known = [turn.lag for turn in turns if turn.lag is not None]
    if not known:
        return None
    merged = Histogram()
    for one in known:
        merged.add(one)
    return merged


def balance(turn: Turn, by_cpu: bool) -> float | None:
    """Most by mean of what workers did; None for a single one, and where they came and went."""
    if turn.server is None or any(event.kind in _COMING_AND_GOING for event in turn.events):
        return None
    counted = turn.server.cpu_by_worker if by_cpu else turn.server.requests_by_worker
    total = sum(counted.values())
    return max(counted.values()) * len(counted) / total if len(counted) > 1 and total else None


_COMING_AND_GOING = ("kill", "reload", "broken deploy", "died")


def _doubts(turns: Sequence[Turn], throughput: Spread) -> tuple[str, ...]:
    """Those of the turns, alike ones once, with how many have it; and that they lie far apart."""
    said: dict[str, list[str]] = {}
    for turn in turns:
        for key, text in {_NUMBER.sub("", one): one for one in turn.doubts}.items():
            said.setdefault(key, []).append(text)
    found = [
        texts[0] if len(turns) == 1 else f"{texts[0]} ({len(texts)} of {len(turns)} turns)"
        for texts in said.values()
    ]
    if throughput.count > 1 and throughput.relative > APART and not turns[0].load.rate:
        apart = amounts.percent(throughput.relative)
        found.append(f"its turns' throughputs lie {apart} apart: what differs by less may be noise")
    return tuple(found)


def _compared(report: Report, ours: Figures, others: Sequence[Figures]) -> Figures:
    """With its speed-up over the one of `others` that is the same server with fewest workers."""
    same = [one for one in others if one.side.command == ours.side.command and one.side.workers]
    if not ours.side.command or not ours.side.workers or not same:
        return ours
    base = min(same, key=lambda one: one.side.workers)
    if base.side.workers == ours.side.workers:
        return replace(ours, speedup=None)
    return replace(ours, speedup=_speedup(report, ours, base))


def _speedup(report: Report, ours: Figures, base: Figures) -> Speedup:
    own_cores, base_cores = (_cores(one.side, report.machine) for one in (ours, base))
    cores = own_cores / base_cores
    throughput = None
    if not ours.load.rate:
        throughput = noise.ratio(ours.throughput.values, base.throughput.values)
    cpu = noise.ratio(base.cpu.values, ours.cpu.values) if base.cpu and ours.cpu else None
    rate = _rates(report, ours, base)
    gained = throughput.value if throughput else rate
    efficiency = gained / cores if gained else None
    spin = _fitting(report.spin, own_cores, base_cores)
    return Speedup(
        over=base.side.name,
        workers=ours.side.workers / base.side.workers,
        cores=cores,
        throughput=throughput,
        rate=rate,
        cpu=cpu,
        efficiency=efficiency,
        fair=efficiency / spin.per_second if efficiency and spin and spin.per_second else None,
        fair_cpu=cpu.value / spin.per_cpu if cpu and spin and spin.per_cpu else None,
    )


def _rates(report: Report, ours: Figures, base: Figures) -> float | None:
    """How many times the rate that a search found for the base one found for ours."""
    whole = [search for search in report.searches if search.bounded_by != EARLY_END]
    rates = {search.side: search.rate for search in whole}
    own, other = rates.get(ours.side.name), rates.get(base.side.name)
    if not own or not other or (ours.load.rate, base.load.rate) != (own, other):
        return None
    return own / other


def _cores(side: Side, machine: dict[str, str]) -> int:
    """How many it can use at once."""
    found = _NUMBER.match(machine.get("cores", ""))
    there = len(side.cpus) or (int(float(found[0].strip(".,"))) if found else 0) or side.workers
    return max(1, min(side.workers, there))


def _fitting(spin: Spin | None, own: int, base: int) -> Spin | None:
    """The spin, if it says what this many cores lose against one."""
    return spin if spin is not None and (own, base) == (spin.processes, 1) else None
