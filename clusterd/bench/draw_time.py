"""The picture over time: what came when, and what was done to the server meanwhile."""

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from clusterd.bench import amounts
from clusterd.bench.canvas import LIGHT, Canvas, Picture, colour, heights
from clusterd.bench.draw_loads import thousands
from clusterd.bench.draw_sides import LEFT
from clusterd.bench.interval import INTERVAL
from clusterd.bench.results import Report, Turn
from clusterd.bench.views import View

MOST = 8  # rows: more are no picture any more
ROW = 1.3  # inches
SIGNS = "v^X*sDPo"  # of kinds of events


def telling(view: View) -> Turn:
    """The turn to show: the one in which most happened, else the first."""
    return max(view.turns, key=lambda turn: (len(turn.events), turn.failed, -turn.round))


def timeline(report: Report, views: Sequence[View]) -> Picture | None:
    """A row a side: answers on the left, p99 on the right; failures and events over both."""
    rows = [(view, telling(view)) for view in views if telling(view).moments][:MOST]
    if not rows:
        return None
    kinds = list(dict.fromkeys(event.kind for _, turn in rows for event in turn.events))
    top = 1.05 if kinds else 0.75
    canvas = Canvas(
        "timeline",
        "Timeline",
        0.6 + top + ROW * len(rows),
        nrows=len(rows),
        ncols=2,
        sharex=True,
        sharey="col",
    )
    canvas.margins(LEFT, 0.25, bottom=0.6, top=top)
    canvas.figure.subplots_adjust(wspace=0.26, hspace=0.55)
    for (view, turn), left, right in zip(rows, canvas.axes[::2], canvas.axes[1::2], strict=True):
        _answers(left, view, turn)
        _slowest(right, view, turn)
        for axes in (left, right):
            _events(axes, turn, kinds)
    _frame(canvas.axes, rows)
    _legend(canvas, kinds)
    return canvas.picture(_said(rows))


def _answers(axes: Axes, view: View, turn: Turn) -> None:
    """Answers a second, in steps, with the intervals in which requests failed."""
    edges = [moment.number * INTERVAL for moment in turn.moments]
    edges.append(edges[-1] + INTERVAL)
    values = [moment.in_time / INTERVAL for moment in turn.moments]
    tint = colour(view.number)
    axes.stairs(values, edges, fill=True, color=tint, alpha=0.16, linewidth=0)
    axes.stairs(values, edges, baseline=None, color=tint, linewidth=1.6)
    for moment in turn.moments:
        if moment.errors:
            at = moment.number * INTERVAL
            axes.axvspan(at, at + INTERVAL, color=LIGHT["bad"], alpha=0.3, linewidth=0)
    words: list[tuple[float, str, str, str]] = [(0.0, "left", view.name, tint)]
    if turn.failed:
        words.append((1.0, "right", f"{amounts.count(turn.failed)} failed", LIGHT["bad"]))
    for x, side, text, ink in words:
        axes.annotate(
            text,
            (x, 1.0),
            (0, 9),
            xycoords="axes fraction",
            textcoords="offset points",
            color=ink,
            ha=side,
        )


def _slowest(axes: Axes, view: View, turn: Turn) -> None:
    """p99 of each interval; a gap where nothing was answered."""
    axes.plot(
        [(moment.number + 0.5) * INTERVAL for moment in turn.moments],
        [m.latency.percentile(99) if m.latency.count else math.nan for m in turn.moments],
        marker="o",
        markersize=2.2,
        color=colour(view.number),
        linewidth=1.6,
    )


def _events(axes: Axes, turn: Turn, kinds: Sequence[str]) -> None:
    """What was done to the server: a line down, and the mark of its kind on top of it."""
    for event in turn.events:
        axes.axvline(event.at, color=LIGHT["muted"], linewidth=0.8, linestyle=(0, (2, 2)))
        axes.plot(
            [event.at],
            [1.0],
            SIGNS[kinds.index(event.kind) % len(SIGNS)],
            transform=axes.get_xaxis_transform(),
            color=LIGHT["ink"],
            markersize=5,
            clip_on=False,
        )
    if turn.warmup:
        axes.axvspan(0, turn.warmup * INTERVAL, color=LIGHT["shade"], zorder=0, linewidth=0)


def _frame(every: Sequence[Axes], rows: Sequence[tuple[View, Turn]]) -> None:
    """Axes that all rows share, and what the columns are."""
    end = max(turn.moments[-1].number + 1 for _, turn in rows) * INTERVAL
    for axes in every:
        axes.set_xlim(0, end)
    for axes in every[::2]:
        thousands(axes)
    for axes in every[1::2]:
        heights(axes)
    for axes, text in zip(every, ("Answers a second", "p99 latency"), strict=False):
        axes.annotate(
            text,
            (0, 1.0),
            (0, 31),
            xycoords="axes fraction",
            textcoords="offset points",
            color=LIGHT["muted"],
        )
    for axes in every[-2:]:
        axes.set_xlabel("Seconds; the warm-up is shaded")
        axes.xaxis.set_major_locator(MaxNLocator(6))


def _legend(canvas: Canvas, kinds: Sequence[str]) -> None:
    """Which mark is which event: one line over all."""
    axes = canvas.axes[0]
    for number, kind in enumerate(kinds):
        axes.plot([], [], SIGNS[number % len(SIGNS)], color=LIGHT["ink"], label=kind, markersize=5)
    if kinds:
        width, height = canvas.figure.get_size_inches()
        canvas.figure.legend(
            loc="upper left",
            bbox_to_anchor=((LEFT - 0.12) / width, 1 - 0.06 / height),
            borderaxespad=0,
            ncols=len(kinds),
            frameon=False,
            handletextpad=0.1,
            columnspacing=1.4,
        )


def _said(rows: Sequence[tuple[View, Turn]]) -> str:
    parts = []
    for view, turn in rows:
        events = ", ".join(f"{event.kind} at {event.at:.1f} s" for event in turn.events)
        failed = f"{amounts.count(turn.failed)} failed"
        more = f", {events}" if events else ""
        parts.append(f"{view.side.name}, round {turn.round}: {failed}{more}")
    return "Answers a second and p99 over time. " + "; ".join(parts) + "."
