"""Conditions on figures as people write them: `p99<50ms`, `errors>0`, `4 workers: throughput<10k`.

Of `--slo` they say what is to be kept, of `--fail-on` what makes a run fail.
"""

import math
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from clusterd.bench import amounts
from clusterd.bench.figures import (
    FEW,
    LOST,
    Figures,
    Percentile,
    label,
    main,
    of_turn,
    percentile,
)
from clusterd.bench.load import Load
from clusterd.bench.noise import Spread
from clusterd.bench.results import Report, Side, Turn
from clusterd.core.errors import ConfigError
from clusterd.core.units import BYTES

RELATIONS: Mapping[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
}
TIME: Mapping[str, float] = {"us": 1, "µs": 1, "μs": 1, "ms": 1e3, "s": 1e6}  # both letters mu
NUMBER: Mapping[str, float] = {"": 1, "k": 1e3, "m": 1e6}
RATE: Mapping[str, float] = {**NUMBER, **{f"{unit}/s": worth for unit, worth in NUMBER.items()}}
SHARE: Mapping[str, float] = {"": 1, "%": 0.01}
COUNT: Mapping[str, float] = {**NUMBER, "%": 0.01}  # with %, a share of all
SIZE: Mapping[str, float] = {unit: float(worth) for unit, worth in BYTES.items()}
TIMES: Mapping[str, float] = {"": 1, "x": 1, "×": 1}

_FORM = re.compile(
    r"(?:(?P<side>.+):)?\s*(?P<metric>[a-z]+(?:\d+(?:\.\d+)?)?)\s*"
    r"(?P<relation><=|>=|<|>)\s*(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>\S*)",
    re.ASCII | re.IGNORECASE,
)
_EXAMPLES = "write it like 'p99<50ms', 'errors>0', 'errors>0.1%' or 'throughput<1000'"


@dataclass(frozen=True, slots=True)
class Metric:
    """One of the figures that conditions can be about."""

    units: Mapping[str, float]
    of: Callable[[Figures], float | None]  # None: not known
    show: Callable[[float], str]
    compares: bool = False  # sides with each other: no turn has it


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition; `limit` is in the data's unit: µs, bytes, a second, a share of one."""

    text: str
    metric: str  # a key of METRICS; percentiles are "p"
    relation: str
    limit: float
    percent: float = 0.0  # of a percentile
    share: bool = False  # errors: of all requests, instead of how many
    side: str = ""  # the only one that it is about; empty: all

    def keeps(self, turn: Turn) -> bool:
        """Whether a turn fulfils it. One that answered nothing fulfils none."""
        if not turn.requests:
            return False
        value, _ = self._value(of_turn(turn))
        return value is not None and self._holds(value)

    def judge(self, one: Figures) -> "Verdict":
        """Whether figures fulfil it."""
        value, weak = self._value(one)
        name = label(self.percent) if self.metric == "p" else self.metric
        if value is None:
            said = f"{one.side.name}: {name} is not known, so {self.text} cannot be judged"
            return Verdict(self, one.side, one.load, None, None, said, weak)
        show = amounts.percent if self.share else METRICS[self.metric].show
        shown = "beyond all that was answered" if math.isinf(value) else show(value)
        verb = "are" if name in ("errors", "requests", "connections") else "is"
        said = f"{one.side.name}: {name} {verb} {shown} ({self.text})"
        return Verdict(self, one.side, one.load, value, self._holds(value), said, weak)

    def _holds(self, value: float) -> bool:
        return RELATIONS[self.relation](value, self.limit)

    def _value(self, one: Figures) -> tuple[float | None, str]:
        """The figure, and what weakens it. Where nobody knows how long it took, it took forever."""
        if self.metric == "p":
            found = percentile(self.percent, one.latency, one.lost)
            endless = math.inf if found.why == LOST else None
            return endless if found.value is None else found.value, _weakness(found, one)
        if self.metric == "errors":
            return self._errors(one)
        return METRICS[self.metric].of(one), ""

    def _errors(self, one: Figures) -> tuple[float, str]:
        """Those of the warm-up too: it is in no other figure, but a gate must not overlook them."""
        early = [moment for turn in one.turns for moment in turn.moments[: turn.warmup]]
        cold = sum(many for moment in early for many in moment.errors.values())
        said = f"{amounts.count(cold)} of them in the warm-up" if cold else ""
        if not self.share:
            return one.failed + cold, said
        every = one.tried + cold + sum(moment.requests for moment in early)
        return (one.failed + cold) / every if every else 0.0, said


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a condition, of one side."""

    condition: Condition
    side: Side
    load: Load | None  # None: it had no turn
    value: float | None  # in the data's unit
    met: bool | None  # None: not known
    text: str  # a sentence that says all of this
    weak: str = ""  # why the figure carries less than it seems to; "" for none

    @property
    def fails(self) -> bool:
        """Of --fail-on: a gate that cannot see does not let pass."""
        return self.met is not False


def parse(text: str) -> Condition:
    """One condition; raises ConfigError with how it is written."""
    match = _FORM.fullmatch(text.strip())
    if match is None:
        raise ConfigError(f"{text!r} is no condition", _EXAMPLES)
    word = match["metric"].lower()
    percent = float(word[1:]) if word[0] == "p" and word[1:2].isdigit() else None
    name = word if percent is None else "p"
    if name not in METRICS or (name == "p") is (percent is None):
        known = ", ".join(["p50 … p99.99", *(one for one in METRICS if one != "p")])
        raise ConfigError(f"{text!r}: there is no figure {word!r}", f"there are {known}")
    if percent is not None and not 0 < percent < 100:
        raise ConfigError(f"{text!r}: a percentile lies between 0 and 100", "the largest is max")
    units, unit = METRICS[name].units, match["unit"].lower()
    if unit not in units:
        wanted = ", ".join(one for one in units if one)
        raise ConfigError(
            f"{text!r}: {f'{unit!r} is no unit of {word}' if unit else f'{word} has a unit'}",
            f"use one of {wanted}" if wanted else "it has none",
        )
    limit = float(match["number"]) * units[unit]
    share = name == "errors" and unit == "%"
    side = (match["side"] or "").strip()
    return Condition(text.strip(), name, match["relation"], limit, percent or 0.0, share, side)


def parse_all(text: str) -> tuple[Condition, ...]:
    """Several, with commas between; raises ConfigError."""
    return tuple(parse(part) for part in text.split(","))


def parse_slo(text: str) -> tuple[Condition, ...]:
    """Of --slo: what a rate has to keep to count; raises ConfigError, also for what makes no sense.

    `p99>50ms` as a target would be kept by the slowest server there is.
    """
    found = parse_all(text)
    for one in found:
        if METRICS[one.metric].compares or one.side:
            raise ConfigError(f"{one.text!r} is no target for a single turn", _EXAMPLES)
        if METRICS[one.metric].units is TIME and one.relation[0] == ">":
            fixed = one.text.replace(">", "<")
            raise ConfigError(f"{one.text!r} asks for a slow server", f"write {fixed!r}")
    return found


def judge(condition: Condition, report: Report) -> list[Verdict]:
    """Of --fail-on: of each side that it is about, by the load that speaks for the side.

    So what a search tries on its way, and finds to be too much, fails nothing.
    """
    wanted = condition.side.lower()
    sides = [side for side in report.sides if wanted in ("", side.name.lower())]
    if not sides:
        said = f"there is no side {condition.side!r}, so {condition.text} cannot be judged"
        return [Verdict(condition, Side(condition.side), None, None, None, said)]
    found = {one.side.name: one for one in main(report)}
    if METRICS[condition.metric].compares:  # what has nothing to be compared with is not judged
        found = {name: one for name, one in found.items() if one.speedup is not None}
        sides = [side for side in sides if side.name in found] or sides
    return [_judged(condition, side, found.get(side.name)) for side in sides]


def _judged(condition: Condition, side: Side, one: Figures | None) -> Verdict:
    if one is not None:
        return condition.judge(one)
    said = f"{side.name}: there is no such figure, so {condition.text} cannot be judged"
    return Verdict(condition, side, None, None, None, said)


def _weakness(found: Percentile, one: Figures) -> str:
    """Why a percentile says less than it seems to."""
    if found.why == FEW:
        latencies = amounts.plural(one.latency.count, "latency", "latencies")
        return f"{latencies} are too few for {label(found.percent)}"
    if found.why == LOST:
        return f"{amounts.plural(one.lost, 'request was', 'requests were')} never answered"
    return ""


def _elsewhere(_: Figures) -> None:
    """`Condition` itself knows: of percentiles which, of errors whether as a share."""


def _middle(found: Spread | None) -> float | None:
    return found.median if found is not None else None


def _speedup(one: Figures) -> float | None:
    """By throughput, or by the rates that searches found."""
    if one.speedup is None:
        return None
    return one.speedup.throughput.value if one.speedup.throughput else one.speedup.rate


# Of several turns a figure is the median one, as the table has it; percentiles are those of all.
METRICS: Mapping[str, Metric] = {
    "p": Metric(TIME, _elsewhere, amounts.latency),
    "mean": Metric(TIME, lambda one: one.mean if one.latency.count else None, amounts.latency),
    "max": Metric(TIME, lambda one: one.max if one.latency.count else None, amounts.latency),
    "throughput": Metric(RATE, lambda one: one.throughput.median, amounts.rate),
    "requests": Metric(NUMBER, lambda one: one.requests, amounts.count),
    "errors": Metric(COUNT, _elsewhere, amounts.count),
    "cpu": Metric(TIME, lambda one: _middle(one.cpu), amounts.cpu),
    "pss": Metric(SIZE, lambda one: _middle(one.pss), amounts.size),
    "balance": Metric(TIMES, lambda one: _middle(one.balance), amounts.times),
    "lag": Metric(TIME, lambda one: one.lag.percentile(99) if one.lag else None, amounts.latency),
    "connections": Metric(NUMBER, lambda one: one.connections, amounts.count),
    "speedup": Metric(TIMES, _speedup, amounts.times, compares=True),
    "efficiency": Metric(
        SHARE,
        lambda one: one.speedup.efficiency if one.speedup else None,
        amounts.percent,
        compares=True,
    ),
}
