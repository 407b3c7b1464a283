"""Pictures that set sides beside each other: how much, how fast, and how evenly."""

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from clusterd.bench import amounts
from clusterd.bench.canvas import (
    GAP,
    LIGHT,
    Canvas,
    Label,
    Picture,
    beside,
    colour,
    heights,
    mark,
    room,
    titled,
)
from clusterd.bench.figures import label, lost
from clusterd.bench.results import Report
from clusterd.bench.rows import told
from clusterd.bench.views import Curve, Share, View, balance

LEFT = 0.95  # inches, for the numbers of an axis
STEPS = 240  # of a latency curve


def throughput(report: Report, views: Sequence[View]) -> Picture:
    """How much each answers, and what a request costs it."""
    costs = [view for view in views if view.cpu is not None]
    canvas = Canvas(
        "throughput",
        "Throughput" + (" and CPU time a request" if costs else ""),
        0.75 + 0.36 * len(views),
        ncols=2 if costs else 1,
        sharey=True,
    )
    left = room(view.name for view in views)
    canvas.margins(left, 0.95 if costs else 1.6, bottom=0.15, top=0.45)
    canvas.figure.subplots_adjust(wspace=0.72)
    first = views[0].throughput
    bars(
        canvas.axes[0],
        "Answers a second · higher is better",
        [(view, view.throughput, [turn.throughput for turn in view.turns]) for view in views],
        [
            _speed(view.throughput, 0.0 if number == 0 or view.turns[0].load.rate else first)
            for number, view in enumerate(views)
        ],
    )
    if costs:
        each = [[t.cpu_per_request or 0.0 for t in view.turns] for view in views]
        bars(
            canvas.axes[1],
            "CPU time a request · lower is better",
            [(view, view.cpu or 0.0, dots) for view, dots in zip(views, each, strict=True)],
            [amounts.cpu(view.cpu) for view in views],
        )
    canvas.axes[0].set_yticks(range(len(views)), [view.name for view in views])
    for tick, view in zip(canvas.axes[0].get_yticklabels(), views, strict=True):
        tick.set_color(colour(view.number))
    said = "; ".join(f"{view.side.name} {amounts.rate(view.throughput)}" for view in views)
    costing = "; ".join(f"{view.side.name} {amounts.cpu(view.cpu)}" for view in costs)
    more = f" CPU time a request: {costing}." if costs else ""
    return canvas.picture(f"Answers a second: {said}.{more} Dots are single turns.")


def _speed(value: float, first: float) -> str:
    """With how many times the first that is, unless 0 says that it means nothing."""
    factor = f"{GAP}{amounts.times(value / first)}" if first else ""
    return amounts.rate(value) + factor


def bars(
    axes: Axes,
    title: str,
    rows: Sequence[tuple[View, float, Sequence[float]]],
    said: Sequence[str],
) -> None:
    """One bar a side, with its turns as dots and its value beside it."""
    titled(axes, title)
    most = max((max([value, *dots]) for _, value, dots in rows), default=1) or 1
    for row, (view, value, dots) in enumerate(rows):
        tint = colour(view.number)
        axes.barh(row, most, height=0.56, color=LIGHT["shade"])
        axes.barh(row, value, height=0.56, color=tint)
        if len(dots) > 1:
            axes.plot(
                dots,
                [row] * len(dots),
                "o",
                color=LIGHT["ground"],
                markeredgecolor=LIGHT["ink"],
                markersize=4,
                markeredgewidth=1,
                clip_on=False,
            )
        axes.annotate(
            said[row],
            (most, row),
            (10, 0),
            textcoords="offset points",
            va="center",
            annotation_clip=False,
        )
    axes.set_xlim(0, most)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xticks([])
    axes.spines["bottom"].set_visible(False)
    axes.tick_params(length=0)


def latency(report: Report, views: Sequence[View]) -> Picture | None:
    """The whole distribution, on an axis that gives the slow ones their room."""
    views = [view for view in views if view.latency.count]
    if not views:
        return None
    canvas = Canvas("latency", "Latency by percentile", 4.3)
    said = [f"{v.name}{GAP}p99 {told(v.percentile(99))}" for v in views]
    canvas.margins(LEFT, room(said) + 0.2, bottom=0.6, top=0.45)
    axes = canvas.axes[0]
    curves = [Curve.of(view.latency, view.lost) for view in views]
    end = max(2.0, *(curve.nines for curve in curves))
    labels = []
    for view, curve, text in zip(views, curves, said, strict=True):
        places = [curve.nines * step / STEPS for step in range(STEPS + 1)]
        values = [curve.at(place) for place in places]
        _band(axes, view, places)
        sure = sum(place <= curve.sure for place in places)
        axes.plot(places[:sure], values[:sure], color=colour(view.number))
        axes.plot(places[sure - 1 :], values[sure - 1 :], color=colour(view.number), linewidth=0.9)
        axes.plot(places[-1:], values[-1:], mark(view.number), color=colour(view.number))
        tint = colour(view.number)
        labels.append(Label(places[-1], values[-1], text, tint, mark(view.number)))
    ticks = [0.0, math.log10(2), *range(1, math.floor(end + 0.15) + 1)]
    axes.set_xticks(ticks, [_percentile(tick) for tick in ticks])
    axes.set_xlim(0, end)
    axes.grid(visible=True, axis="x")
    heights(axes, "Latency · lower is better")
    axes.set_xlabel("Share of requests that were answered in this time")
    beside(axes, labels)
    parts = [
        f"{view.side.name}: "
        + ", ".join(f"{label(p)} {told(view.percentile(p))}" for p in (50.0, 90.0, 99.0, 99.9))
        + f", slowest {amounts.latency(view.latency.max)}"
        for view in views
    ]
    hint = ". Shades reach from turn to turn; thin lines have fewer than 10 requests beyond."
    return canvas.picture("; ".join(parts) + hint)


def _percentile(nines: float) -> str:
    share = 100 * (1 - 10.0**-nines)
    return f"{share:.{max(0, math.ceil(nines) - 2)}f} %" if nines else "0"


def _band(axes: Axes, view: View, places: Sequence[float]) -> None:
    """Between the fastest and the slowest turn: how much is noise."""
    turns = [Curve.of(turn.latency, lost(turn)) for turn in view.turns if turn.latency.count]
    if len(turns) < 2:
        return
    places = [place for place in places if place <= min(curve.nines for curve in turns)]
    each = [[curve.at(place) for curve in turns] for place in places]
    axes.fill_between(
        places,
        [min(values) for values in each],
        [max(values) for values in each],
        color=colour(view.number),
        alpha=0.16,
        linewidth=0,
    )


def evenness(report: Report, views: Sequence[View]) -> Picture | None:
    """What each worker did, by its fair share."""
    shares = balance(views)
    if not shares:
        return None
    canvas = Canvas("balance", "Balance between workers", 0.95 + 0.36 * len(shares))
    canvas.margins(room(share.view.name for share in shares), 2.3, bottom=0.45, top=0.45)
    axes = canvas.axes[0]
    by_cpu = any(share.by_cpu for share in shares)
    what = "CPU time" if by_cpu else "Requests"
    titled(axes, f"{what} of each worker, by the mean of all")
    axes.axvline(1.0, color=LIGHT["muted"], linewidth=1)
    for row, share in enumerate(shares):
        tint = colour(share.view.number)
        low, high = min(share.shares), max(share.shares)
        axes.plot([low, high], [row, row], color=tint, linewidth=5, alpha=0.25)
        axes.plot(
            share.shares,
            [row] * len(share.shares),
            mark(share.view.number),
            color=tint,
            markersize=7,
            markeredgecolor=LIGHT["ground"],
            markeredgewidth=0.6,
        )
        axes.annotate(
            f"most {amounts.times(high)}, least {amounts.times(low)}",
            (1.0, row),
            (10, 0),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            va="center",
            annotation_clip=False,
        )
    far = max(0.1, *(abs(one - 1) for share in shares for one in share.shares)) * 1.12
    axes.set_xlim(max(0.0, 1 - far), 1 + far)
    axes.set_ylim(len(shares) - 0.5, -0.5)
    axes.set_yticks(range(len(shares)), [share.view.name for share in shares])
    for tick, share in zip(axes.get_yticklabels(), shares, strict=True):
        tick.set_color(colour(share.view.number))
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g} ×"))
    axes.grid(visible=True, axis="x")
    axes.spines["bottom"].set_visible(False)
    return canvas.picture(_evenly(shares, what))


def _evenly(shares: Sequence[Share], what: str) -> str:
    parts = [
        f"{share.view.side.name} from {amounts.times(min(share.shares))}"
        f" to {amounts.times(max(share.shares))}"
        for share in shares
    ]
    return f"{what} of each worker by the mean of all: " + "; ".join(parts) + "."
