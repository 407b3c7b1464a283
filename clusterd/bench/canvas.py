"""How pictures look: one theme in two lights, direct labels instead of legends, quiet axes.

Colours are drawn as those of daylight, each used for one thing only. In SVG they then become CSS
variables, so that the same picture follows the reader's light or dark; text stays text.
Besides `pictures`, the only module that imports matplotlib, and never pyplot, which keeps state
and looks for a screen. The same report makes the same bytes: no date, no random ids.
"""

import contextlib
import io
import math
import re
import unicodedata
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from matplotlib.transforms import offset_copy

from clusterd.bench.views import sound

DOTS = 160  # an inch, of PNG
POINTS = 72  # an inch, of SVG
WIDTH = 9.2  # inches
SIZE = 10.0  # points, of text
GAP = "\u2002 "  # between a name and its value: HTML keeps it, which plain spaces it does not

# By what it is for: in daylight, in the dark. No two alike, since SVG tells them by their value.
# Sides are told apart by lightness as well as hue (after Okabe and Ito, "Color Universal Design",
# 2008), have a mark of their own besides, and reach a contrast of 4.5 on their ground (WCAG 1.4.3).
COLOURS: dict[str, tuple[str, str]] = {
    "ground": ("#ffffff", "#12161d"),
    "ink": ("#1a2029", "#e8ecf2"),
    "muted": ("#5b6673", "#9aa6b4"),
    "grid": ("#e6e9ed", "#262d37"),
    "shade": ("#f3f5f7", "#1a2029"),
    "bad": ("#c81e2c", "#ff7b82"),
    "side-0": ("#66717f", "#a3afbd"),
    "side-1": ("#0a5fc2", "#62aeff"),
    "side-2": ("#b84a00", "#ff9c5b"),
    "side-3": ("#0b7a5c", "#3fd0a0"),
    "side-4": ("#a3368c", "#f08fd6"),
    "side-5": ("#7a6200", "#e3c33f"),
    "side-6": ("#0a7896", "#56cdec"),
    "side-7": ("#3d2f8f", "#b3a6ff"),
}
LIGHT = {name: light for name, (light, _) in COLOURS.items()}
MARKS = "osD^vPX*"
SIDES = len(MARKS)
FAMILY = "system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif"

STYLE: Any = {
    "svg.fonttype": "none",  # text stays text: found, read aloud, and in the reader's own font
    "svg.hashsalt": "clusterd",
    "font.family": ["DejaVu Sans"],  # comes with matplotlib, so it is everywhere
    "font.size": SIZE,
    "text.color": LIGHT["ink"],
    "axes.edgecolor": LIGHT["grid"],
    "axes.labelcolor": LIGHT["muted"],
    "axes.facecolor": LIGHT["ground"],
    "figure.facecolor": LIGHT["ground"],
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.axisbelow": True,
    "axes.titlelocation": "left",
    "xtick.color": LIGHT["muted"],
    "ytick.color": LIGHT["muted"],
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
    "xtick.major.pad": 6,
    "ytick.major.pad": 6,
    "grid.color": LIGHT["grid"],
    "grid.linewidth": 0.8,
    "lines.linewidth": 2.0,
    "lines.solid_capstyle": "round",
    "lines.markersize": 5.0,
    "text.parse_math": False,  # names of sides are not formulas
    "path.simplify": True,
}


def colour(side: int) -> str:
    """Of side number so many; more sides than colours begin anew."""
    return LIGHT[f"side-{side % SIDES}"]


def mark(side: int) -> str:
    """The form of its points."""
    return MARKS[side % SIDES]


@dataclass(frozen=True, slots=True)
class Picture:
    """One that is drawn. `text` says in words what it shows, to those who do not see it."""

    name: str  # a file's stem
    title: str
    text: str
    drawn: str  # SVG whose colours are CSS variables
    figure: Figure

    def inline(self) -> str:
        """SVG for a page that defines the colours (`variables`)."""
        return self.drawn

    def svg(self) -> str:
        """A file of its own, which follows light and dark by itself."""
        head, _, rest = self.drawn.partition(">")
        width, height = (round(inches * POINTS) for inches in self.figure.get_size_inches())
        told = f"<title>{escape(self.title)}</title><desc>{escape(self.text)}</desc>"
        return (
            f'{head} width="{width}" height="{height}" role="img">'
            f"{told}<style>{variables('svg')}</style>{rest}"
        )

    def png(self) -> bytes:
        """For whatever shows no SVG, in daylight."""
        with styled():
            FigureCanvasAgg(self.figure)
            png = io.BytesIO()
            self.figure.savefig(png, format="png", dpi=DOTS, metadata={"Software": None})
        return png.getvalue()


def variables(selector: str) -> str:
    """CSS that gives every colour its name, in both lights; print is always daylight."""
    light, dark = (
        ";".join(f"--{name}:{pair[which]}" for name, pair in COLOURS.items()) for which in (0, 1)
    )
    return (
        f"{selector}{{{light}}}"
        f"@media screen and (prefers-color-scheme:dark){{{selector}{{{dark}}}}}"
    )


@contextlib.contextmanager
def styled() -> Iterator[None]:
    """Whatever is drawn meanwhile looks as the theme says; nothing of it stays."""
    with matplotlib.rc_context(STYLE), warnings.catch_warnings():
        # A name in a script that the font lacks: SVG takes the reader's, PNG shows boxes.
        warnings.filterwarnings("ignore", r"(?s)Glyph .* missing from")
        yield


class Canvas:
    """A picture in the making: `axes` are there to draw on, `picture` ends it."""

    def __init__(self, name: str, title: str, height: float, **grid: Any) -> None:
        self.name, self.title = name, title
        self.figure = Figure(figsize=(WIDTH, height), dpi=POINTS)
        made = self.figure.subplots(squeeze=False, **grid)
        self.axes: list[Axes] = list(made.flat)

    def margins(self, left: float, right: float, bottom: float = 0.55, top: float = 0.3) -> None:
        """The room around the axes, in inches."""
        width, height = self.figure.get_size_inches()
        self.figure.subplots_adjust(
            left=left / width,
            right=1 - right / width,
            bottom=bottom / height,
            top=1 - top / height,
        )

    def picture(self, text: str) -> Picture:
        """Drawn, both ways."""
        FigureCanvasSVG(self.figure)
        svg = io.StringIO()
        nobody = {"Date": None, "Creator": None, "Format": None, "Type": None}
        self.figure.savefig(svg, format="svg", metadata=nobody)
        drawn = _themed(svg.getvalue(), self.name)
        return Picture(self.name, self.title, sound(text), drawn, self.figure)


def _themed(svg: str, name: str) -> str:
    """Bare SVG: colours by name, the reader's font, ids that are unique in a page of several."""
    svg = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", svg[svg.index("<svg") :], flags=re.S)
    svg = re.sub(
        r"<svg [^>]*?viewBox=\"([^\"]*)\"[^>]*>",
        rf'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
        rf' viewBox="\1" font-family="{FAMILY}">',
        svg,
        count=1,
    )
    for role, value in LIGHT.items():
        svg = svg.replace(value, f"var(--{role})")
    svg = re.sub(r"font-family: [^;\"]*;? ?", "", svg)
    svg = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font-size: \1", svg)  # before matplotlib 3.10
    svg = svg.replace(' id="', f' id="{name}-').replace('"#', f'"#{name}-')
    return svg.replace("url(#", f"url(#{name}-")


def quiet(axes: Axes, across: bool = False) -> None:
    """Only the grid lines that values are read by: lines at heights, or `across` them."""
    axes.grid(visible=True, axis="x" if across else "y")
    axes.tick_params(which="both", length=0)


def apart(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Places near those that are wanted, in their order, with `gap` between them.

    Labels that would overlap are pushed apart around their common middle (pool adjacent
    violators), and kept within `low` and `high` as long as all fit.
    """
    order = sorted(range(len(wanted)), key=lambda index: wanted[index])
    blocks: list[tuple[float, int]] = []  # mean of (wanted - offset), how many
    for rank, index in enumerate(order):
        block = (wanted[index] - rank * gap, 1)
        while blocks and blocks[-1][0] >= block[0]:
            mean, many = blocks.pop()
            total = many + block[1]
            block = ((mean * many + block[0] * block[1]) / total, total)
        blocks.append(block)
    most = high - gap * (len(wanted) - 1)
    bases = [min(max(mean, low), max(most, low)) for mean, many in blocks for _ in range(many)]
    placed = [0.0] * len(wanted)
    for rank, index in enumerate(order):
        placed[index] = bases[rank] + rank * gap
    return placed


@dataclass(frozen=True, slots=True)
class Label:
    """Words beside a point, in its colour; before them its mark, if it has one."""

    x: float
    y: float
    text: str
    colour: str
    mark: str = ""


def room(names: Iterable[str]) -> float:
    """Inches that the longest of these takes, with a margin on both sides."""
    return 0.45 + 0.086 * max(map(_wide, names), default=0)


def _wide(text: str) -> int:
    """Characters, those twice as wide counted twice."""
    return sum(2 if unicodedata.east_asian_width(one) in "WF" else 1 for one in text)


def beside(axes: Axes, labels: Iterable[Label], pad: float = 10.0) -> None:
    """Each right of the axes at the height of its point, moved apart where they would overlap."""
    labels = list(labels)
    figure = axes.get_figure()
    assert isinstance(figure, Figure)
    box = axes.get_position()
    high = box.height * figure.get_size_inches()[1] * POINTS
    points = axes.transData.transform([(label.x, label.y) for label in labels])
    base = axes.transAxes.inverted().transform(points)
    step = SIZE * 1.35
    placed = apart([y * high for _, y in base], step, 0, high - SIZE * 0.2)
    for label, y, (_, real) in zip(labels, placed, base, strict=True):
        axes.annotate(
            label.text,
            (1.0, real),
            (pad + (11 if label.mark else 0), y - real * high),
            xycoords="axes fraction",
            textcoords="offset points",
            color=label.colour,
            va="center_baseline",
            annotation_clip=False,
        )
        if label.mark:
            axes.plot(
                [1.0],
                [y / high],
                label.mark,
                color=label.colour,
                markersize=5.5,
                transform=offset_copy(axes.transAxes, figure, pad + 2, 0, "points"),
                clip_on=False,
            )


# Decades that an axis spans, and which numbers of each it then names.
STEPS = (
    (2.5, (1.0,)),
    (1.2, (1.0, 3.0)),
    (0.6, (1.0, 2.0, 5.0)),
    (0.3, (1.0, 1.5, 2.0, 3.0, 5.0, 7.0)),
    (-math.inf, (1.0, 1.2, 1.4, 1.6, 2.0, 2.5, 3.0, 3.5, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0)),
)


def heights(axes: Axes, title: str = "") -> None:
    """A logarithmic axis of latencies, with few numbers that are easy to say."""
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    wide = math.log10(high / low) if low > 0 else 3
    steps = next(steps for upto, steps in STEPS if wide > upto)
    axes.yaxis.set_major_locator(LogLocator(subs=steps))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _plain(value)))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_minor_locator(LogLocator(subs=()))
    titled(axes, title)
    quiet(axes)


def _plain(value: float) -> str:
    """A latency without digits that say nothing: `1 ms`, `300 µs`."""
    for limit, worth, unit in ((1e3, 1, "µs"), (1e6, 1e3, "ms"), (math.inf, 1e6, "s")):
        if value < limit * 0.9995:
            return f"{value / worth:g} {unit}"
    return ""


def titled(axes: Axes, title: str) -> None:
    """What an axis shows, quietly above it."""
    if title:
        axes.set_title(title, color=LIGHT["muted"], fontsize=SIZE, pad=12)
