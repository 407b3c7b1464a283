"""What each of several loads came to, in a line a load and side: the text of a ladder."""

from collections.abc import Sequence

from clusterd.bench import amounts
from clusterd.bench.figures import Figures, figures
from clusterd.bench.results import Report
from clusterd.bench.rows import told
from clusterd.core.terminal import clean

HEAD = ("side", "answers", "p50", "p99", "failed")
LEFT = 1  # the column that is not a number
GAP = "  "


def steps(report: Report) -> str:
    """A table of all loads, the smallest first; '' where there is only one."""
    found = figures(report)
    by_rate = any(one.load.rate for one in found)
    asked = [one.load.rate if by_rate else float(one.load.connections) for one in found]
    if len(set(asked)) < 2:
        return ""
    order = sorted(range(len(found)), key=lambda number: asked[number])  # sides as they came
    rows: list[Sequence[str]] = [("rate" if by_rate else "connections", *HEAD)]
    last = 0.0
    for number in order:
        shown = amounts.rate(asked[number]) if by_rate else amounts.count(asked[number])
        rows.append(("" if asked[number] == last else shown, *_cells(found[number])))
        last = asked[number]
    return _aligned(rows)


def _cells(one: Figures) -> tuple[str, ...]:
    failed = amounts.count(one.failed) if one.failed else "0"
    return (
        clean(one.side.name),
        amounts.rate(one.throughput.median),
        told(one.percentiles["p50"]),
        told(one.percentiles["p99"]),
        failed,
    )


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        GAP.join(
            cell.ljust(width) if column == LEFT else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    return "\n".join(line.rstrip() for line in lines)
