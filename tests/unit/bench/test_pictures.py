"""Pictures: which there are, that they are sound SVG and PNG, and the same each time."""

import itertools
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clusterd.bench import canvas, pictures
from clusterd.bench.draw_sides import latency
from clusterd.bench.errors import CannotWrite
from clusterd.bench.figures import main
from clusterd.bench.results import Report
from clusterd.bench.views import chosen
from tests.support import reports

SVG = "{http://www.w3.org/2000/svg}"
BOTH = ["throughput", "latency", "balance", "timeline"]


@pytest.mark.parametrize(
    ("make", "names"),
    [
        (reports.report, BOTH),
        (reports.chaos, ["throughput", "latency", "timeline"]),
        (reports.ladder_of_rates, ["throughput", "latency", "rates", "balance", "timeline"]),
        (reports.ladder_of_connections, ["throughput", "latency", "connections", *BOTH[2:]]),
        (reports.scaling, ["throughput", "latency", "scaling", "balance", "timeline"]),
        (lambda: reports.report(turns=[]), []),
    ],
)
def test_what_there_is_to_show_is_shown(make: reports.Maker, names: list[str]) -> None:
    drawn = pictures.draw(make())
    assert list(drawn) == names
    for name, picture in drawn.items():
        root = ElementTree.fromstring(picture.svg())
        assert root.get("viewBox")
        assert len(list(root.iter(f"{SVG}path"))) > 3
        assert len(picture.text) > 40, f"{name} is not told in words"
        # Each colour is one of the theme's, so that each follows light and dark.
        assert not re.findall(r"#[0-9a-f]{6}", picture.inline())
        assert set(re.findall(r"var\(--([\w-]+)\)", picture.inline())) <= set(canvas.COLOURS)


def test_every_point_is_where_it_belongs() -> None:
    """Axes are read from the picture: the bar of 4 workers is 3.65 times as long as that of 1."""
    drawn = pictures.draw(reports.report())["throughput"]
    bars = re.findall(r'd="M ([\d.]+) [\d.]+ \nL ([\d.]+) [^"]*"[^>]*fill: var\(--side-(\d)', (
        drawn.inline()
    ))  # fmt: skip
    lengths = {side: float(end) - float(start) for start, end, side in reversed(bars)}
    assert lengths["1"] / lengths["0"] == pytest.approx(3.653, abs=0.002)


def test_each_row_of_the_timeline_has_an_axis_of_thousands_from_0_on() -> None:
    drawn = pictures.draw(reports.report())["timeline"]
    words = [word.text for word in ElementTree.fromstring(drawn.svg()).iter(f"{SVG}text")]
    assert words.count("0") == words.count("10,000") == words.count("20,000") == 2


def test_the_same_report_makes_the_same_bytes() -> None:
    report = reports.chaos()
    with canvas.styled():
        views = chosen(main(report), report)
        first, second = (latency(report, views) for _ in range(2))
    assert first is not None
    assert second is not None
    assert first.svg() == second.svg()
    assert first.png() == second.png()
    assert first.png().startswith(b"\x89PNG")


def test_names_from_outside_stay_text(tmp_path: Path) -> None:
    """Neither markup, nor formulas, nor what no XML can carry."""
    report = reports.report()
    for number, name in enumerate(("<script>&\"'", "$x$\x00\udcff" + "long " * 40)):
        old = report.sides[number].name
        report.sides[number].name = name
        for turn in report.of(old):
            turn.side = name
    for path in pictures.save(pictures.draw(report), tmp_path / "new"):
        if path.suffix == ".svg":
            words = ElementTree.fromstring(path.read_bytes()).iter(f"{SVG}text")
            text = "".join(word.text or "" for word in words)
            if path.stem != "balance":
                assert "<script>&\"'" in text
            assert "$x$" in text


def test_a_name_in_another_script_is_no_trouble() -> None:
    report = reports.report()
    report.sides[0].name = "工作进程 🚀"
    for turn in report.of("1 worker"):
        turn.side = report.sides[0].name
    drawn = pictures.draw(report)["throughput"]
    assert "工作进程 🚀" in drawn.svg()
    assert drawn.png()


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CannotWrite, match="Not a directory"):
        pictures.save({}, tmp_path / "file" / "pictures")


def changed(report: Report) -> Report:
    """With all that can be missing, or be nothing."""
    for turn in report.turns:
        turn.server = turn.lag = None
        turn.warmup = 0
    report.turns[0].moments.clear()
    report.spin = None
    return report


@pytest.mark.parametrize("make", [reports.report, reports.ladder_of_rates])
def test_what_is_not_known_is_left_out(make: reports.Maker) -> None:
    drawn = pictures.draw(changed(make()))
    assert "balance" not in drawn
    assert drawn["throughput"].title == "Throughput"


@given(
    st.lists(st.floats(0, 300), max_size=12),
    st.floats(1, 20),
)
def test_labels_never_overlap(wanted: list[float], gap: float) -> None:
    """They keep their order, their distance, and as far as there is room the bounds."""
    placed = canvas.apart(wanted, gap, 0, 300)
    order = sorted(range(len(wanted)), key=lambda index: wanted[index])
    for one, other in itertools.pairwise(order):
        assert placed[other] - placed[one] >= gap - 1e-6
    if wanted and gap * (len(wanted) - 1) <= 300:
        assert min(placed) >= -1e-6
        assert max(placed) <= 300 + 1e-6


def test_labels_with_room_stay_where_they_belong() -> None:
    assert canvas.apart([100.0, 10.0, 40.0], 14, 0, 300) == [100.0, 10.0, 40.0]
    assert canvas.apart([50.0, 50.0], 14, 0, 300) == [43.0, 57.0]


def luminance(colour: str) -> float:
    """WCAG 2.2, relative luminance."""
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("light", [0, 1])
@pytest.mark.parametrize("name", [n for n in canvas.COLOURS if n not in ("grid", "shade")])
def test_colours_are_read_on_their_ground(name: str, light: int) -> None:
    """WCAG 1.4.3: a contrast of 4.5 for text, which the labels of all sides are."""
    ground, colour = (luminance(canvas.COLOURS[one][light]) for one in ("ground", name))
    high, low = max(ground, colour) + 0.05, min(ground, colour) + 0.05
    assert name == "ground" or high / low >= 4.5


def test_only_what_draws_imports_matplotlib_and_never_pyplot() -> None:
    """pyplot would look for a screen, and keep every figure; all else works without the package."""
    rooms = Path(canvas.__file__).parent
    found = {
        path.stem: sorted(
            set(re.findall(r"^(?:from|import) (matplotlib\S*)", path.read_text(), re.M))
        )
        for path in rooms.glob("*.py")
    }
    importing = {name for name, modules in found.items() if modules}
    assert importing == {"canvas", "draw_sides", "draw_loads", "draw_time"}
    assert not any("pyplot" in module for modules in found.values() for module in modules)
