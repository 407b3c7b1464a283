"""How the values of `clusterd bench` are written, and what its help shows."""

import subprocess
import sys
from collections.abc import Callable

import pytest
from click.testing import CliRunner

from clusterd.cli import bench_options as options
from clusterd.cli.bench import bench, compare


@pytest.mark.parametrize(
    ("read", "text", "value"),
    [
        (options.duration, "500ms", 0.5),
        (options.duration, "2m", 120.0),
        (options.share, "3%", 0.03),
        (options.share, "0.5", 0.5),
        (options.rates, "5000", (5000.0,)),
        (options.rates, "1k, 2.5K", (1000.0, 2500.0)),
        (options.workers, "1,auto", (1, options.AUTO)),
        (options.workers, "4, 4,2", (4, 2)),
        (options.span, "1..4096", (1, 4096)),
        (options.span, "8-8", (8, 8)),
    ],
)
def test_values(read: Callable[[str], object], text: str, value: object) -> None:
    assert read(text) == value


@pytest.mark.parametrize(
    ("read", "text"),
    [
        (options.duration, "0"),
        (options.duration, "2d"),
        (options.share, "101%"),
        (options.share, "-1"),
        (options.share, "nan"),
        (options.rates, "0"),
        (options.rates, "1,,2"),
        (options.rates, "nan"),
        (options.rates, "1e9"),
        (options.workers, "0"),
        (options.workers, "1;2"),
        (options.workers, "-1"),
        (options.workers, "2000"),
        (options.span, "5"),
        (options.span, "9..3"),
    ],
)
def test_what_is_no_value(read: Callable[[str], object], text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - its text is not shown
        read(text)


def test_every_option_is_listed_once_under_its_heading() -> None:
    shown = CliRunner().invoke(bench, ["--help"]).output
    for heading, group in options.OPTIONS.items():
        below = shown.partition(f"\n{heading}:\n")[2].partition("\n\n")[0]
        for names, about in group:
            assert f" {names[-1]} " in below or f"{names[-1]}\n" in below, names
            assert str(about.get("default", "")).removesuffix("0%") in shown
    assert shown.count("--help") == 1


def test_the_comparison_has_a_help_of_its_own() -> None:
    shown = CliRunner().invoke(compare, ["--help"]).output
    assert "A.json B.json" in shown
    assert CliRunner().invoke(bench, ["compare", "--help"]).output.count("B.json") == 1


def test_nothing_of_it_is_imported_where_it_is_not_asked_for() -> None:
    """What `clusterd run` imports stays in the master for life; help works without the extra."""
    code = (
        "import sys; import clusterd.cli.run, clusterd.cli.bench; "
        "found = [name for name in sys.modules if name.startswith(('clusterd.bench.', 'hdrh'))]; "
        "assert not found, found"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
