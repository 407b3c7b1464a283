"""The one table of a report, as words: the terminal, the page and README show the same."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from clusterd.bench import amounts
from clusterd.bench.figures import FEW, LOST, Figures, Percentile, figures
from clusterd.bench.noise import Ratio, Spread
from clusterd.bench.results import Report

LATENCY = "Latency (lower is better)"
UNCERTAIN = "few"  # the tone of a figure that rests on few requests
BAD = "bad"
TOO_GOOD = 1.05  # share of what a bare spin reached that is no longer believed
LACKED = 0.1  # of a core that it was ready to use and did not get: worth a word
BUSY = 0.95  # share of a core from which on the generator may be what limits
NEVER = "∞"
OF_MACHINE = "of the machine"  # what a share is of, by the bare spin


@dataclass(frozen=True, slots=True)
class Cell:
    """A figure, and how sure it is. `tone`: UNCERTAIN, BAD or nothing."""

    text: str = amounts.NONE
    more: str = ""
    tone: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """A figure of all sides."""

    group: str
    name: str
    cells: tuple[Cell, ...]
    hint: str = ""  # which direction is better, or what it means


@dataclass(frozen=True, slots=True)
class Table:
    """Sides across, figures down."""

    sides: tuple[str, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...]  # what its signs mean


_NUMBER = re.compile(r"\d[\d.,]*")
Told = Callable[[Figures], Cell | None]


def told(percentile: Percentile) -> str:
    """A percentile's value; ∞ where so many requests were never answered."""
    if percentile.why == LOST:
        return NEVER
    return amounts.NONE if percentile.value is None else amounts.latency(percentile.value)


def table(report: Report, found: Sequence[Figures]) -> Table:
    """Of the figures that speak for each side. Rows that no side has are left out."""
    rates = {search.side: search for search in report.searches}

    def searched(one: Figures) -> Cell | None:
        search = rates.get(one.side.name)
        if search is None:
            return None
        if not search.rate:
            return Cell(amounts.NONE, "not even the lowest", BAD)
        limit = f"limited by the {search.bounded_by}" if search.bounded_by else ""
        return Cell(amounts.rate(search.rate), limit)

    slo = report.searches[0].slo if report.searches else ""
    plan: list[tuple[str, str, Told, str]] = [
        ("Throughput", f"Rate that keeps {slo}", searched, "higher is better"),
        *THROUGHPUT,
        *((LATENCY, label, _percentile(label), "") for label in PERCENTILES),
        *REST,
    ]
    kinds = dict.fromkeys(kind for one in found for kind in one.errors)
    plan[-len(RESOURCES) : -len(RESOURCES)] = [("Errors", kind, _kind(kind), "") for kind in kinds]
    rows = [
        Row(group, name, tuple(cell or Cell() for cell in cells), hint)
        for group, name, tell, hint in plan
        if any(cells := [tell(one) for one in found])
    ]
    return Table(
        tuple(one.side.name for one in found), tuple(rows), tuple(_notes(report, found, rows))
    )


def doubts(found: Iterable[Figures]) -> list[str]:
    """Those of all sides, each with whose it is; one that all of them have is said once."""
    found = list(found)
    everybody = {one.side.name for one in found}
    said: dict[str, dict[str, None]] = {}
    for one in found:
        for doubt in one.doubts:
            said.setdefault(doubt, {})[one.side.name] = None
    if len(everybody) == 1:
        return list(said)
    return [
        f"{'All sides' if len(sides) == len(everybody) else ', '.join(sides)}: {doubt}"
        for doubt, sides in said.items()
    ]


def everything(report: Report, shown: Sequence[Figures]) -> list[str]:
    """The doubts of those that are shown, then of other loads those that say something else.

    Not of a search: what its tries found to be too much is what they were for.
    """
    said = doubts(shown)
    keys = {_key(doubt) for one in shown for doubt in one.doubts}
    for one in figures(report) if not report.searches else ():
        if any(one.load == other.load for other in shown if other.side.name == one.side.name):
            continue
        for doubt in one.doubts:
            if _key(doubt) not in keys:
                keys.add(_key(doubt))
                said.append(f"{one.side.name} {_under(one)}: {doubt}")
    return said


def _under(one: Figures) -> str:
    """Which of several loads."""
    if one.load.rate:
        return f"at {amounts.rate(one.load.rate)}"
    return f"with {amounts.plural(one.load.connections, 'connection')}"


def _key(doubt: str) -> str:
    """What it says, whatever its numbers are."""
    return _NUMBER.sub("", doubt)


def _notes(report: Report, found: Sequence[Figures], rows: Sequence[Row]) -> list[str]:
    cells = [cell for row in rows for cell in row.cells]
    notes = []
    if any(cell.tone == UNCERTAIN for cell in cells):
        notes.append("( ): fewer than 10 requests lie beyond it, so it says little.")
    if any(cell.text == NEVER for cell in cells):
        notes.append(f"{NEVER}: more requests than that were never answered.")
    if report.spin is not None and any(OF_MACHINE in cell.more for cell in cells):
        many = report.spin.processes
        notes.append(
            f"Of the machine: by what {many} bare spinning processes reach here: together "
            f"{amounts.percent(report.spin.per_second)} of {many} × one, and "
            f"{amounts.percent(report.spin.per_cpu)} for each CPU second."
        )
        ups = [one.speedup for one in found if one.speedup is not None]
        if any((share or 0) > TOO_GOOD for up in ups for share in (up.fair, up.fair_cpu)):
            notes.append(
                "More than 100 % of the machine: the spin lost more than the servers did, since it "
                "was disturbed or one worker shared its core's time already; it says little here."
            )
    return notes


def between(low: float | None, high: float | None, show: Callable[[float], str]) -> str:
    """`10,825 – 10,990`, `1.1 – 1.2 ms`; nothing where it is one value, or not known."""
    if low is None or high is None or show(low) == show(high):
        return ""
    first, last = show(low), show(high)
    unit = last.rpartition(" ")[2]
    if " " in last and first.endswith(f" {unit}"):
        first = first.removesuffix(f" {unit}")
    return f"{first} – {last}"


def _spread(spread: Spread | None, show: Callable[[float], str]) -> Cell | None:
    """The median, with where its turns lie."""
    if spread is None:
        return None
    return Cell(show(spread.median), between(spread.low, spread.high, _bare(show)))


def _bare(show: Callable[[float], str]) -> Callable[[float], str]:
    """The same words without what is said once already."""
    return lambda value: show(value).removesuffix("/s").removesuffix(" µs").removesuffix(" ×")


def _ratio(ratio: Ratio | None, more: str = "") -> Cell | None:
    if ratio is None:
        return None
    return Cell(
        amounts.times(ratio.value), more or between(ratio.low, ratio.high, _bare(amounts.times))
    )


def _speedup(one: Figures) -> Cell | None:
    return _ratio(one.speedup.throughput) if one.speedup else None


def _of_machine(share: float | None) -> str:
    return f"{amounts.percent(share)} {OF_MACHINE}" if share is not None else ""


def _efficiency(one: Figures) -> Cell | None:
    found = one.speedup
    if found is None or found.efficiency is None:
        return None
    return Cell(amounts.percent(found.efficiency), _of_machine(found.fair))


def _by_cpu(one: Figures) -> Cell | None:
    found = one.speedup
    if found is None or found.cpu is None:
        return None
    return Cell(amounts.percent(found.cpu.value), _of_machine(found.fair_cpu))


def _percentile(label: str) -> Told:
    def tell(one: Figures) -> Cell | None:
        found = one.percentiles[label]
        text = told(found)
        if found.why == LOST:
            return Cell(text, "", BAD)
        if found.why == FEW and found.value is not None:
            return Cell(f"({text})", "", UNCERTAIN)
        return Cell(text, between(found.low, found.high, amounts.latency))

    return tell


def _failed(one: Figures) -> Cell:
    if not one.failed:
        return Cell("0")
    return Cell(amounts.count(one.failed), amounts.percent(one.error_share), BAD)


def _kind(kind: str) -> Told:
    return lambda one: Cell(amounts.count(one.errors.get(kind, 0)))


def _balance(one: Figures) -> Cell | None:
    cell = _spread(one.balance, amounts.times)
    if cell is None or not one.balance_by_cpu:
        return cell
    return Cell(cell.text, "by CPU time")


def _each(one: Figures) -> Cell | None:
    """Requests a worker: the mean, and how uneven."""
    if one.side.workers < 2 or one.balance is None or one.balance_by_cpu:
        return None
    return Cell(amounts.count(one.requests / len(one.turns) / one.side.workers), "a turn")


def _lag(one: Figures) -> Cell | None:
    return Cell(amounts.latency(one.lag.percentile(99))) if one.lag is not None else None


def _busiest(one: Figures) -> Cell:
    busiest = max(turn.generator.busiest for turn in one.turns)
    many = max(turn.generator.processes for turn in one.turns)
    wanted = max(turn.generator.wanted for turn in one.turns)
    said = [f"{many} processes"] if many > 1 else []
    said += ["shared cores"] if any(turn.generator.shared for turn in one.turns) else []
    said += [f"wanted {amounts.percent(wanted)}"] if wanted - busiest > LACKED else []
    return Cell(
        amounts.percent(busiest),
        ", ".join(said),
        BAD if max(busiest, wanted) >= BUSY else "",
    )


def _streamed(one: Figures) -> Cell | None:
    return Cell(amounts.rate(one.streamed)) if one.streamed else None


PERCENTILES = ("p50", "p75", "p90", "p99", "p99.9", "p99.99")
THROUGHPUT: tuple[tuple[str, str, Told, str], ...] = (
    (
        "Throughput",
        "Answers a second",
        lambda one: _spread(one.throughput, amounts.rate),
        "higher is better",
    ),
    ("Throughput", "Events a second", _streamed, "server-sent"),
    ("Throughput", "Speed-up", _speedup, "with 95 % interval"),
    ("Throughput", "Efficiency a core", _efficiency, "speed-up by cores"),
    ("Throughput", "Efficiency by CPU time", _by_cpu, "fewest workers' a request by this side's"),
)
RESOURCES: tuple[tuple[str, str, Told, str], ...] = (
    ("Resources", "Connections held", lambda one: Cell(amounts.count(one.connections)), ""),
    (
        "Resources",
        "CPU time a request",
        lambda one: _spread(one.cpu, amounts.cpu),
        "lower is better",
    ),
    (
        "Resources",
        "Memory (PSS)",
        lambda one: Cell(amounts.size(one.pss.median)) if one.pss else None,
        "all processes",
    ),
    ("Resources", "Requests a worker", _each, ""),
    ("Resources", "Busiest worker", _balance, "by the mean; 1 is even"),
    ("Generator", "Busiest core", _busiest, "above 95 % it limits"),
    ("Generator", "Lag p99", _lag, "sent after it was due by"),
)
REST: tuple[tuple[str, str, Told, str], ...] = (
    (
        LATENCY,
        "max",
        lambda one: Cell(amounts.latency(one.max)) if one.latency.count else None,
        "",
    ),
    ("Errors", "Failed requests", _failed, ""),
    *RESOURCES,
)
