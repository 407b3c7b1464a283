"""The report as one page: a file of its own that needs no network and runs no script.

Whatever comes from outside (names, commands, headers, error texts) passes through `escaped`.
"""

import html
import re
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from typing import Protocol

from clusterd.bench import amounts
from clusterd.bench.figures import Figures, main
from clusterd.bench.interval import INTERVAL
from clusterd.bench.load import Request
from clusterd.bench.results import Report, Turn
from clusterd.bench.rows import Cell, Row, everything, table
from clusterd.bench.verdict import verdict
from clusterd.core.terminal import clean

# Nothing is fetched, from anywhere, whatever a page was made to contain.
POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; "
    "form-action 'none'"
)
LONG = 12  # lines from which on a table of events is folded
MANY = 3  # sides from which on their columns are narrow
READ = {
    "throughput": "Bars are the median of a side's turns, dots the single turns: how far they lie"
    " apart is how much noise there is.",
    "latency": "Each step to the right is ten times rarer. The line is all turns together, the"
    " shade reaches from turn to turn; where it is thin, fewer than 10 requests lie beyond.",
    "rates": "An open loop: requests are due by schedule, and latency counts from then. Where the"
    " line turns upwards, the server is full.",
    "connections": "Each connection asks again as soon as it is answered.",
    "scaling": "The law is fitted to the single turns; the shade is where it lies with 95 %.",
    "balance": "A dot is a worker of one turn. At 1 it did as much as the mean of all.",
    "timeline": "The turn of each side in which most happened; red where requests failed.",
}


class Drawn(Protocol):
    """What a page needs of a picture."""

    @property
    def title(self) -> str: ...
    @property
    def text(self) -> str: ...
    def inline(self) -> str: ...


def page(report: Report, pictures: Mapping[str, Drawn], theme: str = "") -> str:
    """The whole page. `theme` is CSS that defines the pictures' colours."""
    found = main(report)
    first, *more = verdict(report, found)
    sections = (
        _header(report),
        f"<h1>{_kept(first)}</h1>",
        f"<p class=lede>{_kept(' '.join(more))}</p>" if more else "",
        _doubts(report, found),
        _figures(report, found),
        *(_picture(name, picture) for name, picture in pictures.items()),
        _errors(report),
        _events(report),
        _turns(report),
        _method(report),
        _footer(report),
    )
    return (
        "<!doctype html>\n<html lang=en>\n<head>\n<meta charset=utf-8>\n"
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name=viewport content="width=device-width, initial-scale=1">\n'
        '<meta name=color-scheme content="light dark">\n'
        '<link rel=icon href="data:,">\n'
        f"<title>{escaped(report.target)} · clusterd bench</title>\n"
        f"<style>{theme}\n{STYLE}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(section for section in sections if section)
        + "\n</main>\n</body>\n</html>\n"
    )


def escaped(text: str) -> str:
    """Text that stays text, wherever in a page it stands; what a page cannot carry is replaced."""
    lines = "\n".join(map(clean, text.splitlines()))
    return html.escape(lines.encode("utf-8", "backslashreplace").decode())


def _kept(sentence: str) -> str:
    """Escaped, with no line that breaks between a number and its unit."""
    return re.sub(r"(?<=\d) ", "\u00a0", escaped(sentence))


def _header(report: Report) -> str:
    words = [
        report.made.replace("T", " "),
        *(report.machine.get(key, "") for key in ("cpu", "cores")),
    ]
    words = [f"{word} cores" if number == 2 else word for number, word in enumerate(words) if word]
    return (
        f"<p class=brand><b>clusterd bench</b> <code>{escaped(report.target)}</code>"
        f"<span>{escaped(' · '.join(words))}</span></p>"
    )


def _doubts(report: Report, found: Sequence[Figures]) -> str:
    said = [*everything(report, found), *report.notes]
    if report.interrupted:
        said.insert(0, "it was interrupted: these are the figures until then")
    if not said:
        busiest = max((turn.generator.busiest for turn in report.turns), default=0.0)
        own = all(turn.generator.cpus and not turn.generator.shared for turn in report.turns)
        where = ", apart from the server's" if own else ""
        return (
            "<p class=sure>Nothing raises a doubt: the generator's busiest process used at most "
            f"{escaped(amounts.percent(busiest))} of a core{where}.</p>"
        )
    names = tuple(side.name for side in report.sides)
    said = [one if one.startswith(names) else one[:1].upper() + one[1:] for one in said]
    items = "".join(f"<li>{escaped(one)}</li>" for one in said)
    title = "<h2 id=doubts>Before you believe it</h2>"
    return f"<aside aria-labelledby=doubts>{title}<ul>{items}</ul></aside>"


def _figures(report: Report, found: Sequence[Figures]) -> str:
    made = table(report, found)
    if not made.rows:
        return ""
    head = "".join(f"<th scope=col>{escaped(side)}</th>" for side in made.sides)
    body, group = [], ""
    for row in made.rows:
        if row.group != group:
            group = row.group
            body.append(
                f"<tr class=group><th scope=rowgroup colspan={len(made.sides) + 1}>"
                f"{escaped(group)}</th></tr>"
            )
        body.append(_row(row))
    notes = "".join(f"<p class=note>{escaped(note)}</p>" for note in made.notes)
    return (
        "<section aria-labelledby=figures><h2 id=figures>Figures</h2>"
        f"<div class=wide><table{' class=many' if len(made.sides) >= MANY else ''}>"
        f"<thead><tr><td></td>{head}</tr></thead><tbody>{''.join(body)}</tbody></table></div>"
        f"{notes}</section>"
    )


def _row(row: Row) -> str:
    hint = f" <small>{escaped(row.hint)}</small>" if row.hint else ""
    cells = "".join(_cell(cell) for cell in row.cells)
    return f"<tr><th scope=row>{escaped(row.name)}{hint}</th>{cells}</tr>"


def _cell(cell: Cell) -> str:
    said = cell.more.replace(" ", "\u00a0") if " – " in cell.more else cell.more
    more = f"<small>{escaped(said)}</small>" if said else ""
    tone = f" class={cell.tone}" if cell.tone else ""
    return f"<td{tone}>{escaped(cell.text)}{more}</td>"


def _picture(name: str, picture: Drawn) -> str:
    """Inline, with its title and description for who does not see it."""
    head, _, rest = picture.inline().partition(">")
    svg = (
        f'{head} role="img" aria-labelledby="{name}-title {name}-text">'
        f'<title id="{name}-title">{escaped(picture.title)}</title>'
        f'<desc id="{name}-text">{escaped(picture.text)}</desc>{rest}'
    )
    read = READ.get(name, "")
    return (
        f"<figure><h2>{escaped(picture.title)}</h2><div class=wide>{svg}</div>"
        f"<figcaption>{escaped(read)}</figcaption></figure>"
    )


def _errors(report: Report) -> str:
    """Every kind, by turn: how often, when, and what the last one said."""
    lines = []
    for turn in report.turns:
        for kind, many in sorted(turn.errors.items(), key=lambda item: -item[1]):
            lines.append(
                (
                    turn.side,
                    f"{turn.round}",
                    kind,
                    amounts.count(many),
                    _when(turn, kind),
                    turn.texts.get(kind, ""),
                )
            )
    if not lines:
        return ""
    head = ("Side", "Round", "Kind", "Times", "When", "The last one")
    return _section("errors", "Errors", _plain(head, lines, numbers=(3,)))


def _when(turn: Turn, kind: str) -> str:
    """From the start of the turn: the first and the last interval that had one."""
    numbers = [moment.number for moment in turn.moments if moment.errors.get(kind)]
    if not numbers:
        return ""
    first, last = numbers[0] * INTERVAL, (numbers[-1] + 1) * INTERVAL
    return f"{first:g} – {last:g} s"


def _events(report: Report) -> str:
    """What was done to the server, and happened to it."""
    lines = [
        (turn.side, f"{turn.round}", f"{event.at:.2f} s", event.kind, event.text)
        for turn in report.turns
        for event in turn.events
    ]
    if not lines:
        return ""
    made = _plain(("Side", "Round", "At", "Event", "More"), lines, numbers=(2,))
    return _section("events", "Events", made, folded=len(lines) > LONG)


def _turns(report: Report) -> str:
    head = ["Round", "Side", "Load", "Measured", "Answers a second", "p50", "p99", "max"]
    head += ["Failed", "CPU a request", "Generator"]
    lines = []
    for turn in report.turns:
        p50, p99 = turn.latency.percentiles([50, 99]) if turn.latency.count else (None, None)
        lines.append(
            (
                f"{turn.round}",
                turn.side + (" (cut short)" if turn.partial else ""),
                _load(turn),
                amounts.seconds(turn.seconds),
                amounts.rate(turn.throughput),
                amounts.latency(p50) if p50 is not None else amounts.NONE,
                amounts.latency(p99) if p99 is not None else amounts.NONE,
                amounts.latency(turn.latency.max) if p99 is not None else amounts.NONE,
                amounts.count(turn.failed),
                amounts.cpu(turn.cpu_per_request),
                amounts.percent(turn.generator.busiest),
            )
        )
    made = _plain(head, lines, numbers=range(3, 11))
    return _section("turns", "Every turn", made, folded=True)


def _load(turn: Turn) -> str:
    over = amounts.plural(turn.load.connections, "connection")
    return f"{amounts.rate(turn.load.rate)} over {over}" if turn.load.rate else over


def _method(report: Report) -> str:
    """How it was measured: enough to do it again."""
    rate = any(turn.load.rate for turn in report.turns)
    how = (
        "Open loop: requests are due at a constant rate, whatever became of those before; latency "
        "counts from when a request was due, so that a stall shows in every request it delayed."
        if rate
        else "Closed loop: each connection asks again as soon as it is answered. A server that "
        "stalls is asked less meanwhile, so the slowest requests are fewer than users would see; "
        "an open loop (--rate) tells."
    )
    how += (
        " Every round gives every side a turn; each starts afresh and warms up, which is cut off."
    )
    sides = [
        (side.name, side.command or "already running", _cpus(side.cpus)) for side in report.sides
    ]
    parts = [
        f"<p>{escaped(how)}</p>",
        _plain(("Side", "Command", "CPUs"), sides),
        _plain(("Request", "Share", "Headers", "Body"), [_request(r) for r in report.requests]),
        _pairs("Settings", report.settings),
        _pairs("Machine", report.machine),
        _pairs("Versions", report.versions),
    ]
    return _section("method", "How it was measured", "".join(parts))


def _cpus(cpus: Iterable[int]) -> str:
    return ", ".join(map(str, cpus)) or "all"


def _request(request: Request) -> tuple[str, str, str, str]:
    headers = "; ".join(f"{name}: {value}" for name, value in request.headers)
    body = amounts.size(len(request.body)) if request.body else amounts.NONE
    return f"{request.method} {request.path}", f"{request.weight:g}", headers or amounts.NONE, body


def _pairs(title: str, pairs: Mapping[str, str]) -> str:
    if not pairs:
        return ""
    items = "".join(
        f"<div><dt>{escaped(key)}</dt><dd>{escaped(value)}</dd></div>"
        for key, value in pairs.items()
    )
    return f"<h3>{escaped(title)}</h3><dl>{items}</dl>"


def _plain(head: Sequence[str], lines: Iterable[Sequence[str]], numbers: Iterable[int] = ()) -> str:
    """A plain table; columns of numbers stand right."""
    right = set(numbers)
    marks = [" class=n" if number in right else "" for number in range(len(head))]
    top = "".join(
        f"<th scope=col{mark}>{escaped(one)}</th>" for one, mark in zip(head, marks, strict=True)
    )
    body = "".join(
        "<tr>"
        + "".join(f"<td{mark}>{escaped(c)}</td>" for c, mark in zip(line, marks, strict=True))
        + "</tr>"
        for line in lines
    )
    return (
        "<div class=wide><table class=plain>"
        f"<thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _section(name: str, title: str, inside: str, folded: bool = False) -> str:
    if folded:
        return f"<details><summary><h2>{escaped(title)}</h2></summary>{inside}</details>"
    return f"<section aria-labelledby={name}><h2 id={name}>{escaped(title)}</h2>{inside}</section>"


def _footer(report: Report) -> str:
    return (
        "<footer>The JSON beside this page has every histogram; "
        "<code>clusterd bench compare A.json B.json</code> says what changed between two, and "
        f"whether that is more than noise. Format {report.format}.</footer>"
    )


STYLE = resources.files("clusterd.bench").joinpath("page.css").read_text()
