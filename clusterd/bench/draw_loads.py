"""Pictures over a growing load: rate, connections, workers."""

import math
from collections.abc import Callable, Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter, NullLocator

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
    quiet,
    room,
    titled,
)
from clusterd.bench.draw_sides import LEFT
from clusterd.bench.results import Report
from clusterd.bench.usl import Model, fit
from clusterd.bench.views import View, by_load, family

Point = Callable[[View], float]
DOTTED = (0, (1, 2))
LEAST = 3  # points that make a line worth drawing


def _lines(report: Report, where: Point) -> list[list[View]]:
    """Of each side its views in the order of their load; only sides with several of those."""
    each = [by_load(report, side, number) for number, side in enumerate(report.sides)]
    lines = [sorted(views, key=where) for views in each]
    return [views for views in lines if len({where(view) for view in views}) >= LEAST]


def _line(axes: Axes, views: Sequence[View], where: Point, height: Point) -> None:
    """One side, with a mark at each load."""
    number = views[0].number
    axes.plot(
        [where(view) for view in views],
        [height(view) for view in views],
        marker=mark(number),
        color=colour(number),
        markeredgecolor=LIGHT["ground"],
        markeredgewidth=0.7,
        markersize=6.5,
        clip_on=False,
    )


def _p99(view: View) -> float:
    return view.latency.percentile(99)


def _rate(view: View) -> float:
    return view.turns[0].load.rate


def _connections(view: View) -> float:
    return view.turns[0].load.connections


def thousands(axes: Axes) -> None:
    """An axis of requests a second, from 0 on."""
    axes.set_ylim(0, None)
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    quiet(axes)


def rates(report: Report, views: Sequence[View]) -> Picture | None:
    """What latency becomes as more is asked: the bend is where a server is full."""
    lines = [line for line in _lines(report, _rate) if all(_rate(view) for view in line)]
    if not lines:
        return None
    canvas = Canvas("rates", "Latency against rate", 4.3)
    canvas.margins(LEFT, room(line[0].name for line in lines) + 0.2, bottom=0.6, top=0.45)
    axes = canvas.axes[0]
    labels = []
    for line in lines:
        _line(axes, line, _rate, _p99)
        number, last = line[0].number, line[-1]
        labels.append(Label(_rate(last), _p99(last), last.name, colour(number), mark(number)))
    axes.set_xlim(0, max(_rate(line[-1]) for line in lines) * 1.02)
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.set_xlabel("Requests a second that were due")
    kept = _found(axes, report)
    heights(axes, "p99 latency · lower is better" + kept)
    beside(axes, labels)
    parts = [
        f"{line[0].side.name}: "
        + ", ".join(f"{amounts.latency(_p99(v))} at {amounts.rate(_rate(v))}" for v in line)
        for line in lines
    ]
    return canvas.picture("p99 latency by rate. " + "; ".join(parts) + ".")


def _found(axes: Axes, report: Report) -> str:
    """A line down at the rate where each search ended; in words what those lines are."""
    numbers = {side.name: number for number, side in enumerate(report.sides)}
    found = [search for search in report.searches if search.rate]
    for search in found:
        tint = colour(numbers.get(search.side, 0))
        axes.axvline(search.rate, color=tint, linewidth=1.2, linestyle=DOTTED)
    return f" · dotted: the highest rate that keeps {found[0].slo}" if found else ""


def connections(report: Report, views: Sequence[View]) -> Picture | None:
    """How many can it hold: throughput and latency from one connection to thousands."""
    lines = _lines(report, _connections)
    if not lines:
        return None
    canvas = Canvas("connections", "Throughput against connections", 6.2, nrows=2, sharex=True)
    names = [f"{line[0].name}{GAP}{amounts.rate(line[-1].throughput)}" for line in lines]
    canvas.margins(LEFT, room(names) + 0.2, bottom=0.6, top=0.45)
    canvas.figure.subplots_adjust(hspace=0.28)
    upper, lower = canvas.axes
    for line in lines:
        _line(upper, line, _connections, lambda view: view.throughput)
        _line(lower, line, _connections, _p99)
    upper.set_xscale("log", base=2)
    counts = sorted({int(_connections(view)) for line in lines for view in line})
    lower.set_xticks(counts, [f"{many:,}" for many in counts])
    lower.xaxis.set_minor_locator(NullLocator())
    lower.xaxis.set_minor_formatter(NullFormatter())
    lower.set_xlabel("Connections")
    upper.tick_params(labelbottom=False)
    upper.set_xlim(counts[0] / 1.15, counts[-1] * 1.15)
    titled(upper, "Answers a second · higher is better")
    thousands(upper)
    heights(lower, "p99 latency · lower is better")
    for axes, height, show in (
        (upper, lambda view: view.throughput, amounts.rate),
        (lower, _p99, amounts.latency),
    ):
        ends = [(line[-1], height(line[-1])) for line in lines]
        beside(
            axes,
            [
                Label(
                    _connections(v), y, f"{v.name}{GAP}{show(y)}", colour(v.number), mark(v.number)
                )
                for v, y in ends
            ],
        )
    parts = [
        f"{line[0].side.name}: "
        + ", ".join(f"{amounts.rate(v.throughput)} at {_connections(v):,.0f}" for v in line)
        for line in lines
    ]
    return canvas.picture("Answers a second by connections. " + "; ".join(parts) + ".")


def scaling(report: Report, views: Sequence[View]) -> Picture | None:
    """Throughput by workers, beside what nothing lost would be, and the law fitted to it."""
    line = [view for view in family(views) if not _rate(view)]
    if not line:
        return None
    canvas = Canvas("scaling", "Scaling with workers", 4.3)
    canvas.margins(LEFT, room(["measured  100,000/s"]), bottom=0.6, top=0.45)
    axes = canvas.axes[0]
    most, each = line[-1].side.workers, line[0].throughput / line[0].side.workers
    axes.plot([0, most], [0, each * most], color=LIGHT["muted"], linestyle=DOTTED, linewidth=1.4)
    labels = [Label(most, each * most, "nothing lost", LIGHT["muted"])]
    model = fit([(view.side.workers, turn.throughput) for view in line for turn in view.turns])
    if model is not None:
        _law(axes, model, most)
        labels.append(Label(most, model.at(most), "fitted law", colour(1)))
    points = [(view.side.workers, turn.throughput) for view in line for turn in view.turns]
    axes.plot(
        [workers for workers, _ in points],
        [value for _, value in points],
        "o",
        color=LIGHT["ground"],
        markeredgecolor=LIGHT["ink"],
        markersize=5.5,
        clip_on=False,
        zorder=4,
    )
    axes.set_xlim(0, most * 1.015)
    axes.set_xticks([view.side.workers for view in line])
    axes.set_xlabel("Workers · dots are single turns")
    thousands(axes)
    titled(axes, "Answers a second · higher is better")
    beside(axes, labels)
    parts = [f"{amounts.rate(view.throughput)} with {view.side.workers}" for view in line]
    more = f" {law(model)}" if model is not None else ""
    return canvas.picture("Answers a second by workers: " + ", ".join(parts) + f".{more}")


def _law(axes: Axes, model: Model, most: int) -> None:
    """The fitted curve, and where it lies with 95 %."""
    places = [most * step / 100 for step in range(1, 101)]
    axes.plot(places, [model.at(place) for place in places], color=colour(1))
    bands = [(place, band) for place in places if place >= 1 and (band := model.band(place))]
    if bands and all(math.isfinite(high) for _, (_, high) in bands):
        axes.fill_between(
            [place for place, _ in bands],
            [low for _, (low, _) in bands],
            [high for _, (_, high) in bands],
            color=colour(1),
            alpha=0.16,
            linewidth=0,
        )


def law(model: Model) -> str:
    """The fitted law in a sentence."""
    error = f", points lie {amounts.percent(model.error)} off" if model.error is not None else ""
    return (
        f"Universal Scalability Law: {amounts.rate(model.rate)} for one, "
        f"{amounts.percent(model.contention)} of the work queues (σ), "
        f"crosstalk κ {model.crosstalk:.2g}{error}."
    )
