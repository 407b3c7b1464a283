"""Why the figures of a turn are not the server's alone, or say less than they seem to.

Each is one sentence for the report. Better one too many: a wrong figure that stands is worse.
"""

import statistics
from collections.abc import Callable

from clusterd.bench import amounts, warmup
from clusterd.bench.figures import BEYOND, FEW, lost, percentile, unanswered
from clusterd.bench.interval import INTERVAL, LIMIT
from clusterd.bench.results import Moment, Turn

BUSY = 0.95  # share of a core from which on a generator may have been what was too slow
HELD = 0.99  # share of the rate that must have been answered
LATE = 1_000  # µs of lag p99 that nobody minds
LATE_SHARE = 0.1  # of the latency's p99: a lag that is more of it is worth a doubt
WAITED = 0.01  # share of the requests that may wait for a connection
REFUSED = 0.01  # share of answers that are errors
QUIET = 0.5  # seconds without an answer
SHORT = 1.0  # seconds of measured part
DRIFTING = 4  # intervals in a third of the measured part, at least
MANY = 50  # answers an interval, so that chance alone does not move it by that share
DRIFT = 0.15  # by which share a third may differ from another
CONNECTED = 0.99  # share of the connections


def doubts(turn: Turn) -> list[str]:
    """Of a turn that is complete: with its moments, and its sums after the warm-up was cut."""
    return [said for doubt in _DOUBTS if (said := doubt(turn))]


def _ended(turn: Turn) -> str:
    return "it ended before its time: what it shows is the part until then" if turn.partial else ""


def _bottleneck(turn: Turn) -> str:
    use = turn.generator
    whose = "its busiest process" if use.processes > 1 else "its process"
    if not _limited(turn):
        return ""
    busiest = use.busiest
    if busiest < BUSY:
        return (
            f"the generator was the bottleneck: {whose} wanted all of a core and got "
            f"{amounts.percent(busiest)} of one, since others had it; the server may be faster "
            "than this"
        )
    return (
        f"the generator was the bottleneck: {whose} used {amounts.percent(busiest)} of a core, so "
        "the server may be faster than this; more processes (--generators) tell"
    )


def _starved(turn: Turn) -> str:
    count = sum(moment.errors.get(LIMIT, 0) for moment in turn.moments)
    if not count:
        return ""
    return (
        f"{amounts.plural(count, 'connection')} could not be tried, since this machine had no port "
        "or no descriptor left: that limit is the generator's, and not the server's"
    )


def _limited(turn: Turn) -> bool:
    """Whether a generator had no time left: it used all of a core, or all that it got of one."""
    return max(turn.generator.busiest, turn.generator.wanted) >= BUSY


def _shared(turn: Turn) -> str:
    if not turn.generator.shared:
        return ""
    return (
        "the generator and the server shared cores: each took time from the other, so throughput "
        "is too low and latency too high; CPU time a request still compares"
    )


def _rate(turn: Turn) -> str:
    """Open loop: not all that was due was answered; who was it?"""
    rate = turn.load.rate
    if not rate or not turn.seconds or turn.partial:
        return ""
    # Of few, one that is still under way is more than the share.
    lacking = rate * turn.seconds - turn.requests - unanswered(turn.load, turn.errors)
    if turn.requests >= HELD * rate * turn.seconds or lacking <= 1:
        return ""
    said = f"{amounts.rate(turn.throughput)} were answered of {amounts.rate(rate)} that were due"
    if _limited(turn) or _late(turn) or _starved(turn):
        return f"{said}: the generator could not send more"
    return f"{said}: the server did not keep up, so latency grows for as long as this goes on"


def _waited(turn: Turn) -> str:
    """Open loop: requests were due while every connection was busy."""
    if not turn.requests or turn.waited <= WAITED * turn.requests or _limited(turn):
        return ""  # of a generator without time left, answers wait in its own sockets
    share = amounts.percent(min(1.0, turn.waited / turn.requests))
    return (
        f"{share} of the requests waited for one of {amounts.count(turn.load.connections)} "
        "connections, which is part of their latency: the server is too slow for this rate, or "
        "more connections (-c) are needed"
    )


def _lag(turn: Turn) -> str:
    if turn.lag is None or not _late(turn):
        return ""
    return (
        "the generator kept its schedule badly: 1 % of the requests were sent "
        f"{amounts.latency(turn.lag.percentile(99))} or more after they were due, which is part of "
        "their latency"
    )


def _late(turn: Turn) -> bool:
    """Open loop: whether the generator itself was late, by more than latencies hide."""
    if turn.lag is None or not turn.lag.count or not turn.latency.count:
        return False
    return turn.lag.percentile(99) > max(LATE, LATE_SHARE * turn.latency.percentile(99))


def _connections(turn: Turn) -> str:
    """Fewer were held than were asked for. One that is fresh for each request is held by none."""
    wanted = turn.load.connections
    if turn.load.fresh or not turn.requests or turn.connections >= CONNECTED * wanted:
        return ""
    return f"{amounts.count(turn.connections)} of {amounts.plural(wanted, 'connection')} were held"


def _refusals(turn: Turn) -> str:
    """Answers that are errors are answers, and often quick ones."""
    refused = sum(many for kind, many in turn.errors.items() if kind.startswith("status "))
    if not turn.requests or refused <= REFUSED * turn.requests:
        return ""
    kinds = sorted(kind for kind in turn.errors if kind.startswith("status "))
    share = amounts.percent(min(1.0, refused / turn.requests))
    return (
        f"{share} of the answers were errors ({', '.join(kinds)}): throughput and latency are "
        "those of a server that refuses"
    )


def _lost(turn: Turn) -> str:
    count = lost(turn)
    if not count:
        return ""
    told = turn.load.rate and turn.moments and not turn.partial  # as `lost` counts
    unsent = turn.moments[-1].behind if told else 0
    many = "all" if unsent == count else amounts.count(unsent)
    sent = f", {many} of them not even sent when it ended" if unsent else ""
    return (
        f"{amounts.plural(count, 'request was', 'requests were')} never answered{sent}: they count "
        "as slower than any other in percentiles, and are not in mean and maximum"
    )


def _quiet(turn: Turn) -> str:
    """Nothing came for a while: what a closed loop's percentiles hardly show."""
    longest, at = 0.0, 0.0
    length, measured = 0.0, _measured(turn)
    for moment in measured:
        length = 0.0 if moment.requests else length + INTERVAL
        if length > longest:
            longest, at = length, (moment.number + 1) * INTERVAL - length
    if longest < QUIET or not turn.requests or _slow(turn):
        return ""
    said = f"nothing was answered for {amounts.seconds(longest)}, from {amounts.seconds(at)} on"
    if turn.load.rate:
        return said
    return (
        f"{said}: a closed loop asks nothing meanwhile, so its percentiles hide it; --rate does not"
    )


def _slow(turn: Turn) -> bool:
    """Whether intervals without an answer are to be expected, as few as there are."""
    return turn.throughput * QUIET < 5


def _too_few(turn: Turn) -> str:
    """Which of the percentiles that are shown it cannot carry."""
    if not turn.requests:
        return "nothing was answered"
    if percentile(99.0, turn.latency).why != FEW:
        return ""
    return (
        f"only {amounts.plural(turn.latency.count, 'latency', 'latencies')} were measured: p99 "
        f"takes {amounts.count(BEYOND * 100)}, so this one is about the slowest few"
    )


def _too_short(turn: Turn) -> str:
    if not 0 < turn.seconds < SHORT:
        return ""
    return f"only {amounts.seconds(turn.seconds)} were measured: a longer --duration says more"


def _unsettled(turn: Turn) -> str:
    """The warm-up was cut where it had to be, not where it ended."""
    if len(turn.moments) < warmup.FEWEST or not turn.requests:
        return ""
    if warmup.settled(turn.moments) is not None:
        return ""
    return (
        "the warm-up never ended: throughput or latency kept changing, so this is no steady state; "
        "a longer --duration may reach it"
    )


def _drift(turn: Turn) -> str:
    """It grew or fell while it was measured, so that no single figure stands for it."""
    third = len(_measured(turn)) // 3
    if third < DRIFTING or turn.partial or turn.throughput * INTERVAL < MANY:
        return ""
    early, late = _measured(turn)[:third], _measured(turn)[-third:]
    for what, of in (("throughput", _answers), ("median latency", _median)):
        was, now = sorted(map(of, early)), sorted(map(of, late))
        # Of the middle halves, so that a stall or two do not count; they must lie wholly apart.
        quarter = third // 4
        low, high = sorted((was, now))
        if high[quarter] <= low[-1 - quarter]:
            continue
        by = statistics.median(now) / max(statistics.median(was), 1e-9)
        if abs(by - 1) > DRIFT:
            return (
                f"{what} went {'up' if by > 1 else 'down'} from the first to the last third of "
                f"what was measured, to {by:.2f} of what it was: this is no steady state"
            )
    return ""


def _answers(moment: Moment) -> float:
    return float(moment.in_time)


def _median(moment: Moment) -> float:
    return float(moment.latency.percentile(50))


def _left_out(turn: Turn) -> str:
    """What was cut off with the warm-up and would have changed the picture."""
    early = turn.moments[: turn.warmup]
    failed = sum(many for moment in early for many in moment.errors.values())
    parts = []
    if failed:
        parts.append(amounts.plural(failed, "error"))
    slowest = max((moment.latency.max for moment in early), default=0)
    if slowest > 2 * max(turn.latency.max, 1):
        parts.append(f"a request of {amounts.latency(slowest)}, slower than any later one")
    if not parts:
        return ""
    length = amounts.seconds(turn.warmup * INTERVAL)
    return f"the warm-up of {length}, which is in no figure, had {' and '.join(parts)}"


def _measured(turn: Turn) -> list[Moment]:
    return turn.moments[turn.warmup :]


# As they are told: what may make all figures wrong comes first.
_DOUBTS: tuple[Callable[[Turn], str], ...] = (
    _ended,
    _bottleneck,
    _starved,
    _shared,
    _rate,
    _waited,
    _lag,
    _connections,
    _refusals,
    _lost,
    _quiet,
    _unsettled,
    _drift,
    _left_out,
    _too_few,
    _too_short,
)
