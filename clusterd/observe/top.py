"""The page of `clusterd top`: what is known and what was chosen, as styled lines. Pure."""

import enum
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from clusterd.core.terminal import clean_lines
from clusterd.core.units import show_count, show_seconds
from clusterd.observe import rates
from clusterd.observe.keys import HELP, View, chosen
from clusterd.observe.rates import NOTHING, Rates
from clusterd.observe.snapshot import GroupView, Snapshot, WorkerView
from clusterd.observe.table import UNKNOWN, served


class Style(enum.Enum):
    """What a piece of a line is; how that looks is for the terminal."""

    PLAIN = enum.auto()
    STRONG = enum.auto()
    DIM = enum.auto()
    GOOD = enum.auto()
    WARN = enum.auto()
    BAD = enum.auto()
    CHOSEN = enum.auto()


class Span(NamedTuple):
    text: str
    style: Style = Style.PLAIN


Line = list[Span]


class Page(NamedTuple):
    """What is known of a cluster. `history` is oldest first, the last one is shown."""

    history: Sequence[Snapshot] = ()
    memory: Mapping[int, int] = {}  # PSS in bytes, by pid
    trouble: str = ""  # why there is nothing newer

    @property
    def shot(self) -> Snapshot | None:
        return self.history[-1] if self.history else None


class Row(NamedTuple):
    """A worker and what was measured of it."""

    worker: WorkerView
    rates: Rates
    memory: int | None
    serves: bool = True  # requests; what a program of a command group serves is not known


class Column(NamedTuple):
    heading: str
    width: int  # negative: to the left
    rank: int  # those of a higher rank go first when there is little room
    cell: Callable[[Row], str]


BAD_LAG = 0.1  # seconds of loop lag from which it is worth a look
PHASES = {"ready": Style.GOOD, "booting": Style.WARN, "draining": Style.DIM, "leaving": Style.DIM}
STATES = {"serving": Style.GOOD, "degraded": Style.BAD, "stopping": Style.WARN}
COLUMNS = (
    Column("GROUP", -7, 4, lambda row: row.worker.group),
    Column("SLOT", 4, 0, lambda row: str(row.worker.slot)),
    Column("PID", 7, 2, lambda row: str(row.worker.pid)),
    Column("GEN", 4, 6, lambda row: str(row.worker.generation)),
    Column("PHASE", -8, 1, lambda row: row.worker.phase),
    Column("UP", 6, 14, lambda row: show_seconds(row.worker.uptime)),
    Column("CONNS", 5, 13, lambda row: _served(row, row.worker.connections)),
    Column("TOTAL", 5, 15, lambda row: _served(row, row.worker.requests)),
    Column("REQ/S", 5, 1, lambda row: _count(row.rates.requests) if row.serves else UNKNOWN),
    Column("BUSY", 4, 3, lambda row: _served(row, row.worker.in_flight)),
    Column("P50", 5, 8, lambda row: short_time(row.rates.p50)),
    Column("P99", 5, 5, lambda row: short_time(row.rates.p99)),
    Column("LAG", 5, 9, lambda row: short_time(row.worker.loop_lag)),
    Column("CPU", 4, 4, lambda row: _percent(row.rates.cpu)),
    Column("PSS", 5, 7, lambda row: short_bytes(row.memory)),
    Column("RST", 3, 10, lambda row: show_count(row.worker.restarts)),
)
KEYS = "q leave  up/down choose  +/- scale  r reload  d dump  s sort  h help"


def rows(page: Page, view: View) -> list[Row]:
    """The workers in the order in which they are shown."""
    shot = page.shot
    if shot is None:
        return []
    found = rates.workers(rates.since(page.history), shot)
    programs = {group.name for group in shot.groups if group.kind == "command"}
    made = [
        Row(
            worker,
            found.get(rates.key(worker), NOTHING),
            page.memory.get(worker.pid),
            worker.group not in programs,
        )
        for worker in shot.workers
    ]
    places = {group.name: place for place, group in enumerate(shot.groups)}
    made.sort(key=lambda r: (places.get(r.worker.group, 0), r.worker.slot, r.worker.generation))
    if view.sort in ORDERS:
        made.sort(key=lambda row: ORDERS[view.sort](row) or 0, reverse=True)
    return made


ORDERS: dict[str, Callable[[Row], float | None]] = {
    "requests": lambda row: row.rates.requests,
    "busy": lambda row: row.worker.in_flight,
    "p99": lambda row: row.rates.p99,
    "cpu": lambda row: row.rates.cpu,
    "memory": lambda row: row.memory,
}


def draw(page: Page, view: View, width: int, height: int) -> list[Line]:
    """The whole page: `height` lines at most, none wider than `width`."""
    shot = page.shot
    if shot is None:
        return _fit([[Span(page.trouble or "looking for the cluster", Style.BAD)]], width, height)
    head = _head(page, shot)
    head += _groups(shot, view, width)
    foot = _foot(page, view)
    room = max(0, height - len(head) - 1)
    if view.helps or view.text:
        body = _text(list(HELP) if view.helps else list(view.text[view.top :]), room)
    else:
        body = _table(rows(page, view), view, width, room, len(shot.groups) > 1)
    lines = [*head, *body]
    lines += [[] for _ in range(height - len(lines) - 1)]
    return _fit([*lines[: max(0, height - 1)], foot], width, height)


def plain(page: Page, width: int) -> str:
    """The page once, as text: for scripts, and where the terminal cannot do more."""
    shot = page.shot
    assert shot is not None
    lines = _head(page, shot) + _groups(shot, View(), width)
    made = rows(page, View())
    lines += _table(made, View(), width, len(made) + 2, len(shot.groups) > 1)
    texts = ["".join(span.text for span in line)[:width].rstrip() for line in lines]
    return clean_lines("\n".join(texts))


def _head(page: Page, shot: Snapshot) -> list[Line]:
    """What the cluster is and what it does as a whole."""
    rate = rates.whole(rates.since(page.history), shot)
    several = len(shot.groups) > 1
    one = "" if several else f", generation {shot.generation}"
    what = f"{len(shot.groups)} groups are " if several else f"{shot.app or '-'} is "
    busy = sum(worker.in_flight for worker in shot.workers)
    conns = sum(worker.connections for worker in shot.workers)
    memory = sum(page.memory.get(worker.pid, 0) for worker in shot.workers)
    first = [
        Span(shot.name, Style.STRONG),
        Span(f": {what}"),
        Span(shot.state, STATES.get(shot.state, Style.WARN)),
        Span(f", {shot.ready} of {shot.size} ready{one}, up {show_seconds(shot.uptime)}"),
    ]
    told = [
        f"{_count(rate.requests)} req/s",
        f"{show_count(busy)} in flight",
        f"{show_count(conns)} conns",
        f"p50 {short_time(rate.p50)} p99 {short_time(rate.p99)}",
        f"CPU {_percent(rate.cpu)}",
        f"PSS {short_bytes(memory or None)}",
    ]
    lines = [first, [Span("  ".join(told))], [Span(served(shot.totals), Style.DIM)]]
    if shot.rollout is not None and len(shot.groups) < 2:
        lines.append([Span(_rolling(shot), Style.WARN)])
    return lines


def _rolling(one: Snapshot | GroupView) -> str:
    rollout = one.rollout
    return f"rolling to generation {rollout.generation}: {rollout.stage}" if rollout else ""


def _groups(shot: Snapshot, view: View, width: int) -> list[Line]:
    """A line a group where there are several; the chosen one stands out."""
    lines: list[Line] = [[]]
    if len(shot.groups) > 1:
        mine = chosen(view, shot)
        longest = max(len(group.name) for group in shot.groups)
        for group in shot.groups:
            style = Style.STRONG if group.name == mine else Style.PLAIN
            mark = ">" if group.name == mine else " "
            what = _rolling(group) or ", ".join(group.listeners) or group.app
            lines.append(
                [
                    Span(f"{mark} {group.name:<{longest}} ", style),
                    Span(f"{group.state:<9}", STATES.get(group.state, Style.WARN)),
                    Span(f"{group.ready:>4} of {group.size:<3} gen {group.generation:<4} {what}"),
                ]
            )
        lines.append([])
    return lines


def columns(width: int, several: bool) -> list[Column]:
    """Those that fit, the most telling first."""
    wanted = [one for one in COLUMNS if several or one.heading != "GROUP"]
    left, kept = width + 1, set[str]()
    for one in sorted(wanted, key=lambda column: column.rank):
        if left < abs(one.width) + 1:
            break
        left -= abs(one.width) + 1
        kept.add(one.heading)
    return [one for one in wanted if one.heading in kept]


def _table(made: list[Row], view: View, width: int, room: int, several: bool) -> list[Line]:
    """The workers; as many as there is room for, the chosen one always."""
    shown = columns(width, several)
    if not made:
        return [[Span("no workers", Style.DIM)]]
    pids = [row.worker.pid for row in made]
    at = pids.index(view.selected) if view.selected in pids else 0
    fits = max(1, room - 1)
    hidden = len(made) > fits
    fits -= hidden
    first = max(0, min(at - fits // 2, len(made) - fits))
    lines: list[Line] = [[Span(_cells(shown, [one.heading for one in shown]), Style.DIM)]]
    for row in made[first : first + max(1, fits)]:
        cells = _cells(shown, [one.cell(row) for one in shown])
        if row.worker.pid == view.selected:
            lines.append([Span(cells.ljust(width), Style.CHOSEN)])
        else:
            lines.append(_coloured(cells, shown, row))
    if hidden:
        last = min(len(made), first + fits)
        lines.append([Span(f"{first + 1} to {last} of {len(made)} workers", Style.DIM)])
    return lines


def _cells(shown: Sequence[Column], texts: Sequence[str]) -> str:
    return " ".join(
        text[: -one.width].ljust(-one.width) if one.width < 0 else text.rjust(one.width)
        for one, text in zip(shown, texts, strict=True)
    )


def _coloured(cells: str, shown: Sequence[Column], row: Row) -> Line:
    """The same with the phase and a high loop lag in their colours."""
    spans: Line = []
    for one in shown:
        piece, cells = cells[: abs(one.width) + 1], cells[abs(one.width) + 1 :]
        style = Style.PLAIN
        if one.heading == "PHASE":
            style = PHASES.get(row.worker.phase, Style.BAD)
        elif one.heading in _remarkable(row.worker):
            style = Style.WARN
        spans.append(Span(piece, style))
    return spans


def _remarkable(worker: WorkerView) -> set[str]:
    """Columns that are worth a look."""
    found = {"LAG": worker.loop_lag >= BAD_LAG, "RST": bool(worker.restarts)}
    return {heading for heading, so in found.items() if so}


def _text(text: list[str], room: int) -> list[Line]:
    """Help, or stacks."""
    return [[Span(line)] for line in text[:room]]


def _foot(page: Page, view: View) -> Line:
    if view.pending is not None:
        return [Span(f"{view.question} y: yes, any other key: no", Style.WARN)]
    if page.trouble:
        return [Span(page.trouble, Style.BAD)]
    if view.message:
        return [Span(view.message, Style.STRONG)]
    if view.text:
        return [Span("up/down, page up/down to scroll, q back", Style.DIM)]
    sort = "" if view.sort == "slot" else f"  (by {view.sort})"
    return [Span(KEYS + sort, Style.DIM)]


def _fit(lines: list[Line], width: int, height: int) -> list[Line]:
    """Cut to the size of the terminal."""
    cut = []
    for line in lines[:height]:
        left, spans = width, []
        for span in line:
            spans.append(Span(span.text[:left], span.style))
            left -= len(spans[-1].text)
        cut.append(spans)
    return cut


def short_time(seconds: float | None) -> str:
    """A duration in at most five characters: `350us`, `1.2ms`, `45ms`, `2.0s`, `999s`."""
    if seconds is None:
        return "-"
    for worth, unit in ((1e-6, "us"), (1e-3, "ms"), (1.0, "s")):
        value = seconds / worth
        if value < 9.95 and unit != "us":
            return f"{value:.1f}{unit}"
        if value < 999.5:
            return f"{value:.0f}{unit}"
    return ">999s"


def short_bytes(size: int | None) -> str:
    """A size in at most five characters: `980K`, `45M`, `1.2G`."""
    if size is None:
        return "-"
    for power, unit in ((1, "K"), (2, "M"), (3, "G")):
        value = size / 1024**power
        if value < 9.95 and unit != "K":
            return f"{value:.1f}{unit}"
        if value < 999.5:
            return f"{value:.0f}{unit}"
    return ">999G"


def _served(row: Row, number: int) -> str:
    return show_count(number) if row.serves else UNKNOWN


def _count(number: float | None) -> str:
    if number is None:
        return "-"
    return f"{number:.1f}" if 0 < number < 9.95 else show_count(number)


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share * 100:.0f}%"
