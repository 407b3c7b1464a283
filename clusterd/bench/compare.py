"""What changed between two reports, and whether that is more than noise.

Each figure is compared turn by turn, by Welch's interval (see `noise`): what lies within it is not
called a change. Percentiles are compared by the turns' own, since those show how far chance moves
them; each side's table shows those of all requests together.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from clusterd.bench import amounts, noise
from clusterd.bench.figures import Figures, balance, figures, lost, main, percentile
from clusterd.bench.load import Load
from clusterd.bench.noise import Ratio, Spread
from clusterd.bench.results import Report, Side, Turn

HIGHEST = "highest rate"
BETTER, WORSE, SAME, UNKNOWN = "better", "worse", "same", "unknown"
FINEST = 0.002  # a smaller change is none: a histogram's buckets are half as wide
ENOUGH = 3  # turns of a side from which on an interval is of use for more than gross changes
SIGMAS = 3.0  # by how many deviations of chance errors must have changed in number
CORRECTED = 10  # figures among which one false alarm in twenty is worth a note

Show = Callable[[float], str]


@dataclass(frozen=True, slots=True)
class Figure:
    """One that is compared: of a turn."""

    name: str
    unit: str
    of: Callable[[Turn], float | None]
    show: Show
    more_is_better: bool = False


@dataclass(frozen=True, slots=True)
class Change:
    """What became of one figure of one side."""

    side: Side
    load: Load
    figure: str
    unit: str  # 1/s, µs, bytes, × or errors
    before: Spread
    after: Spread
    ratio: Ratio | None  # after by before; None where one of them is zero
    verdict: str  # BETTER, WORSE, SAME (within the noise), UNKNOWN (too few turns to say)

    @property
    def changed(self) -> bool:
        """Whether it is more than noise."""
        return self.verdict in (BETTER, WORSE)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Of two reports. `notes` say what makes them hard to compare."""

    changes: list[Change]
    notes: list[str]

    @property
    def worse(self) -> list[Change]:
        """What is worse by more than the noise."""
        return [change for change in self.changes if change.verdict == WORSE]


def compare(before: Report, after: Report) -> Comparison:
    """Sides of the same name under the same load. What has no counterpart is in the notes."""
    olds, news = _by_side(before), _by_side(after)
    changes, notes = [], list(_settings(before, after))
    doubted: dict[str, dict[str, list[str]]] = {}  # by doubt, then before and after: whose
    for name in [*olds, *(name for name in news if name not in olds)]:
        if name not in olds or name not in news:
            which = "first" if name in olds else "second"
            notes.append(f"{name} is only in the {which} report")
            continue
        changes += list(_found(before, after, olds[name][0], news[name][0]))
        pairs = _pairs(olds[name], news[name])
        if len(pairs) < max(len(olds[name]), len(news[name])):
            left = "its load differs, so it is" if not pairs else "loads of only one report are"
            notes.append(f"{name}: {left} not compared")
        for old, new in pairs:
            changes += list(_changes(old, new))
            notes += [f"{name}: {said}" for said in _loads(old.load, new.load)]
            for when, one in (("before", old), ("after", new)):
                for doubt in one.doubts:
                    doubted.setdefault(doubt, {}).setdefault(when, []).append(name)
    notes += [f"{_where(whose)}: {doubt}" for doubt, whose in doubted.items()]
    return Comparison(changes, list(dict.fromkeys([*notes, *_cautions(changes)])))


def _where(whose: dict[str, list[str]]) -> str:
    """`1 worker and 4 workers, after`: a doubt that many have is told once."""
    names = {when: " and ".join(dict.fromkeys(sides)) for when, sides in whose.items()}
    if len(set(names.values())) == 1:
        return f"{next(iter(names.values()))}, {' and '.join(names)}"
    return "; ".join(f"{sides}, {when}" for when, sides in names.items())


def _by_side(report: Report) -> dict[str, list[Figures]]:
    """All loads of each side; of a search only the rate that it found, not what it tried."""
    made: dict[str, list[Figures]] = {}
    for one in main(report) if report.searches else figures(report):
        made.setdefault(one.side.name, []).append(one)
    return made


def _pairs(olds: Sequence[Figures], news: Sequence[Figures]) -> list[tuple[Figures, Figures]]:
    """Those with the same load; where each has a single one, its rate may differ."""
    single = len(olds) == len(news) == 1
    return [
        (old, new)
        for old in olds
        for new in news
        if _comparable(old.load, new.load) and (single or old.load.rate == new.load.rate)
    ]


def _found(before: Report, after: Report, old: Figures, new: Figures) -> Iterator[Change]:
    """The highest rates that searches for the same target found. A search is a single try."""
    found = [
        [one for one in report.searches if one.side == of.side.name and one.rate]
        for report, of in ((before, old), (after, new))
    ]
    for was in found[0]:
        for now in found[1]:
            if was.slo == now.slo:
                rates = Spread((was.rate,)), Spread((now.rate,))
                ratio = noise.ratio(rates[1].values, rates[0].values)
                yield Change(new.side, new.load, HIGHEST, "1/s", *rates, ratio, UNKNOWN)


def _changes(old: Figures, new: Figures) -> Iterator[Change]:
    by_cpu = old.balance_by_cpu or new.balance_by_cpu
    for figure in [*_FIGURES, _balance(by_cpu)]:
        if figure.name == "throughput" and new.load.rate:
            continue  # it is given
        before, after = _spread(figure, old), _spread(figure, new)
        if before is not None and after is not None:
            yield _change(new, figure, before, after)
    yield _errors(old, new)


def _spread(figure: Figure, one: Figures) -> Spread | None:
    """Of all turns that answered. Of some only would be of the lucky ones, as for p99.9 of turns
    some of which were too slow to have enough requests for it."""
    values = [figure.of(turn) for turn in one.turns if turn.requests]
    return None if None in values else noise.spread(values)


def _change(of: Figures, figure: Figure, before: Spread, after: Spread) -> Change:
    ratio = noise.ratio(after.values, before.values)
    verdict = UNKNOWN
    if ratio is not None and ratio.low is not None:
        resolved = abs(ratio.value - 1) > FINEST
        if figure.unit == "µs":  # whole ones
            resolved = resolved and abs(after.median - before.median) >= 1
        verdict = SAME
        if ratio.told and resolved:
            verdict = BETTER if (ratio.value > 1) is figure.more_is_better else WORSE
    return Change(of.side, of.load, figure.name, figure.unit, before, after, ratio, verdict)


def _errors(old: Figures, new: Figures) -> Change:
    """By how many there were, each a share of its requests: zero is common, and has no ratio.

    Errors come in bursts, so that chance is at least what it would be if they did not.
    """
    before, after = (Spread(tuple(float(t.failed) for t in one.turns)) for one in (old, new))
    failed = old.failed + new.failed
    asked = [max(1, one.requests + one.lost) for one in (old, new)]
    share = asked[1] / sum(asked)  # of all errors, what the second would have by chance
    strays = SIGMAS * (failed * share * (1 - share)) ** 0.5
    verdict = SAME
    if failed and abs(new.failed - failed * share) > max(strays, 1.0):
        verdict = WORSE if new.failed > failed * share else BETTER
    return Change(new.side, new.load, "errors", "errors", before, after, None, verdict)


def _settings(before: Report, after: Report) -> Iterator[str]:
    """What else differs: then the reports compare more than was meant."""
    kinds: Sequence[tuple[str, Mapping[str, str], Mapping[str, str]]] = (
        ("machine", before.machine, after.machine),
        ("version", before.versions, after.versions),
        ("setting", before.settings, after.settings),
    )
    if before.target != after.target:
        yield f"the target differs: {before.target} before, {after.target} after"
    for kind, old, new in kinds:
        for name in sorted(old.keys() | new.keys()):
            if old.get(name) != new.get(name):
                was, now = old.get(name, "none"), new.get(name, "none")
                yield f"{kind} {name} differs: {was} before, {now} after"
    for which, report in (("first", before), ("second", after)):
        if report.interrupted:
            yield f"the {which} report is of a run that was interrupted"


def _comparable(old: Load, new: Load) -> bool:
    """Whether only how long it lasted differs; or the rate, which a search found for each."""
    kept = (
        "requests",
        "connections",
        "protocol",
        "fresh",
        "pipeline",
        "slow",
        "slow_for",
        "message",
    )
    return old.model == new.model and all(getattr(old, k) == getattr(new, k) for k in kept)


def _loads(old: Load, new: Load) -> Iterator[str]:
    if old.rate != new.rate:
        was, now = amounts.rate(old.rate), amounts.rate(new.rate)
        yield f"it was driven at {was} before and at {now} after, so latencies say little"
    if old.duration != new.duration:
        was, now = amounts.seconds(old.duration), amounts.seconds(new.duration)
        yield f"turns took {was} before and {now} after"


def _cautions(changes: Sequence[Change]) -> Iterator[str]:
    """How far to trust this, for who does not think in intervals."""
    turns = min((min(c.before.count, c.after.count) for c in changes), default=ENOUGH)
    if turns < 2:
        yield "one turn does not say how turns differ: take --rounds 3 or more"
    elif turns < ENOUGH:
        yield (
            f"{turns} turns tell gross changes only, what counts as the same may have changed; "
            "--rounds 5 tells more"
        )
    judged = sum(change.verdict != UNKNOWN for change in changes)
    if judged >= CORRECTED and any(change.changed for change in changes):
        yield f"of {judged} figures, about one in twenty looks changed by chance alone"


def _percentile(percent: float) -> Callable[[Turn], float | None]:
    def of(turn: Turn) -> float | None:
        found = percentile(percent, turn.latency, lost(turn))
        return None if found.why or found.value is None else float(found.value)

    return of


def _pss(turn: Turn) -> float | None:
    return float(turn.server.pss) if turn.server and turn.server.pss else None


def _balance(by_cpu: bool) -> Figure:
    return Figure("balance", "×", lambda turn: balance(turn, by_cpu), amounts.times)


_FIGURES = (
    Figure("throughput", "1/s", lambda turn: turn.throughput, amounts.rate, more_is_better=True),
    Figure("mean", "µs", lambda turn: turn.latency.mean, amounts.latency),
    *(
        Figure(f"p{percent:g}", "µs", _percentile(percent), amounts.latency)
        for percent in (50.0, 90.0, 99.0, 99.9)
    ),
    Figure("CPU a request", "µs", lambda turn: turn.cpu_per_request, amounts.cpu),
    Figure("PSS", "bytes", _pss, amounts.size),
)
_SHOWN: Mapping[str, Show] = {
    "balance": amounts.times,
    "errors": amounts.count,
    HIGHEST: amounts.rate,
    **{figure.name: figure.show for figure in _FIGURES},
}
_TOLD = "Each figure is the median of the turns' own, percentiles too; errors are all there were."
_WORDS = {SAME: "within the noise", UNKNOWN: "too few turns to say"}


def text(found: Comparison) -> str:
    """For a terminal: a table for each side, then what to keep in mind."""
    lines: list[str] = []
    several = len({_key(change) for change in found.changes}) > len(
        {change.side.name for change in found.changes}
    )
    for key in dict.fromkeys(_key(change) for change in found.changes):
        rows = [_row(change) for change in found.changes if _key(change) == key]
        name, connections, rate = key
        at = amounts.rate(rate) if rate else amounts.plural(connections, "connection")
        title = f"{name}, {at}" if several else name
        rows.insert(0, (title, "before", "after", "change", "95 % interval", ""))
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        for row in rows:
            cells = [row[0].ljust(widths[0])]
            cells += [row[column].rjust(widths[column]) for column in range(1, 5)]
            lines.append("  ".join([*cells, row[5]]).rstrip())
        lines.append("")
    if found.changes:
        lines += [_TOLD, ""]
    lines += [f"- {note}" for note in found.notes]
    if not found.changes:
        lines.insert(0, "nothing could be compared")
    return "\n".join(lines).rstrip()


def _key(change: Change) -> tuple[str, int, float]:
    """What belongs into one table."""
    return change.side.name, change.load.connections, change.load.rate


def _row(change: Change) -> tuple[str, ...]:
    show, ratio = _SHOWN[change.figure], change.ratio
    by, interval = amounts.NONE, amounts.NONE
    if ratio is not None:
        by = _signed(ratio.value)
        if ratio.low is not None and ratio.high is not None:
            interval = f"{_signed(ratio.low)} … {_signed(ratio.high)}"
    if change.figure == "errors":
        shown = [show(sum(spread.values)) for spread in (change.before, change.after)]
    else:
        shown = [show(spread.median) for spread in (change.before, change.after)]
    verdict = change.verdict.upper() if change.changed else _WORDS[change.verdict]
    return (change.figure, *shown, by, interval, verdict)


def _signed(ratio: float) -> str:
    """`+4.2 %`; what more than doubles is told as a multiple."""
    return f"{(ratio - 1) * 100:+.1f} %" if ratio < 3 else amounts.times(ratio)
