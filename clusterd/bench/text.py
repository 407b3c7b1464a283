"""What the terminal says at the end: the verdict, doubts, and one table."""

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import replace

from clusterd.bench.figures import figures, main
from clusterd.bench.results import Report
from clusterd.bench.rows import OF_MACHINE, Cell, Table, everything
from clusterd.bench.rows import table as rows
from clusterd.bench.verdict import verdict
from clusterd.core.terminal import clean

Ink = Callable[[str, str], str]
WIDTH = 100
GAP = 2
BOLD, AMBER, RED, DIM, PLAIN = "\x1b[1m", "\x1b[33m", "\x1b[31m", "\x1b[2m", "\x1b[0m"


def table(report: Report, *, width: int = WIDTH, colours: bool = False) -> str:
    """The end of a run, for a terminal of that width; no line is longer, unless a name is."""
    found = main(report)
    ink = _ink if colours else _plain
    first, *more = verdict(report, found)
    lines = [*(ink(line, BOLD) for line in _wrapped(first, width))]
    lines += _wrapped(" ".join(more), width)
    doubts = [*everything(report, found), *report.notes]
    if doubts:
        lines += ["", ink("Before you believe it:", AMBER)]
        for doubt in doubts:
            lines += [ink(line, AMBER) for line in _wrapped(f"- {doubt}", width, "  ")]
    made = rows(report, found)
    if len(_blocks(made, width)) > 1:
        made = _brief(made)
    for block in _blocks(made, width):
        lines += ["", *_grid(made, block, ink)]
    told = [*_happened(report), *_failed(report)]
    said = [line for one in told for line in _wrapped(one, width, "  ")]
    lines += ["", *said] if said else []
    if len(figures(report)) > len(found):
        lines += ["", "Of several loads the one that speaks for each side; the report has all."]
    if made.notes:
        lines += ["", *(ink(line, DIM) for note in made.notes for line in _wrapped(note, width))]
    return "\n".join(lines)


def _happened(report: Report) -> list[str]:
    """What was done to each side and became of it: how often, with the last words of each kind."""
    lines = []
    for side in report.sides:
        events = [event for turn in report.of(side.name) for event in turn.events]
        kinds = dict.fromkeys(event.kind for event in events)
        parts = []
        for kind in kinds:
            texts = [event.text for event in events if event.kind == kind]
            last = texts[-1].partition("\n")[0]
            parts.append(f"{len(texts)} × {kind}" + (f" ({last})" if last else ""))
        lines += [f"{side.name}: {', '.join(parts)}"] if parts else []
    return lines


def _failed(report: Report) -> list[str]:
    """What the last error of each kind said, the same of several sides once."""
    last = {(turn.side, kind): text for turn in report.turns for kind, text in turn.texts.items()}
    said: dict[tuple[str, str], list[str]] = {}
    for (side, kind), text in last.items():
        said.setdefault((kind, text), []).append(side)
    return [f"{kind} ({', '.join(sides)}): {text}" for (kind, text), sides in said.items()]


def _wrapped(text: str, width: int, indent: str = "") -> list[str]:
    """Lines of it; one that it has is none of ours."""
    return textwrap.wrap(clean(" ".join(text.splitlines())), width, subsequent_indent=indent)


def _ink(text: str, colour: str) -> str:
    return f"{colour}{text}{PLAIN}" if text.strip() else text


def _plain(text: str, colour: str) -> str:
    return text


def _said(cell: Cell) -> str:
    return f"{cell.text}  {cell.more}" if cell.more else cell.text


def _brief(made: Table) -> Table:
    """Without most of what is said beside figures, so that more sides stand beside each other."""

    def kept(cell: Cell) -> Cell:
        return cell if cell.tone or OF_MACHINE in cell.more else replace(cell, more="")

    kept_rows = [replace(row, cells=tuple(map(kept, row.cells))) for row in made.rows]
    return replace(made, rows=tuple(kept_rows))


def _widths(made: Table) -> tuple[int, list[int]]:
    """Of the names, and of each side's column."""
    names = max(len(row.name) for row in made.rows) + 2
    columns = [
        max(len(clean(side)), *(len(_said(row.cells[number])) for row in made.rows))
        for number, side in enumerate(made.sides)
    ]
    return names, columns


def _blocks(made: Table, width: int) -> list[list[int]]:
    """Which sides stand beside each other: as many as fit, the first ones first."""
    if not made.rows:
        return []
    names, columns = _widths(made)
    blocks: list[list[int]] = [[]]
    for number, column in enumerate(columns):
        used = names + sum(columns[one] + GAP for one in blocks[-1])
        if blocks[-1] and used + GAP + column > width:
            blocks.append([])
        blocks[-1].append(number)
    return blocks


def _grid(made: Table, block: Sequence[int], tint: Ink) -> list[str]:
    names, columns = _widths(made)
    gap = " " * GAP
    head = "".join(gap + clean(made.sides[one]).ljust(columns[one]) for one in block)
    lines = [tint(" " * names + head.rstrip(), BOLD)]
    group = ""
    for row in made.rows:
        if row.group != group:
            group = row.group
            lines.append(tint(group, BOLD))
        parts = []
        for one in block:
            cell = row.cells[one]
            colour = {"bad": RED, "few": DIM}.get(cell.tone, "")
            pad = " " * (columns[one] - len(_said(cell)))
            said = tint(cell.text, colour) if colour else cell.text
            more = gap + tint(cell.more, DIM) if cell.more else ""
            parts.append(gap + said + more + pad)
        lines.append(f"  {clean(row.name)}".ljust(names) + "".join(parts).rstrip())
    return lines
