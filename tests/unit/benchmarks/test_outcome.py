"""Figures are judged by medians, ratios by rounds, and nothing is judged that was not measured."""

import json
from pathlib import Path

import pytest

from benchmarks import report
from benchmarks.environment import Environment
from benchmarks.outcome import Figure, Outcome
from benchmarks.scenarios import ALL


@pytest.mark.parametrize(
    ("figure", "reached"),
    [
        (Figure("ratio", 0.5, target=0.5), True),
        (Figure("ratio", 0.51, target=0.5), False),
        (Figure("rate", 0.89, target=0.9, at_least=True), False),
        (Figure("rate", 0.9, target=0.9, at_least=True), True),
        (Figure("for information", 3.0), None),
    ],
)
def test_targets_are_inclusive_and_have_a_side(figure: Figure, reached: bool | None) -> None:
    """A target is reached when it is met exactly; without one there is nothing to reach."""
    assert figure.reached is reached


def test_a_ratio_is_taken_round_by_round() -> None:
    """When the machine was slow in one round, it was slow for both: their ratio stays."""
    outcome = Outcome({"cost": "µs"})
    outcome.add("ours", "cost", 10, 100, 10)
    outcome.add("theirs", "cost", 20, 200, 20)
    assert outcome.ratio("cost", "ours", "theirs") == 0.5


def test_what_was_not_measured_is_not_judged() -> None:
    """A peer that is missing leaves its figure out."""
    outcome = Outcome({"cost": "µs"})
    outcome.figure("of nobody", outcome.ratio("cost", "ours", "theirs"), 0.5)
    assert outcome.figures == []


def test_the_page_says_what_was_recorded(tmp_path: Path) -> None:
    """Every sample lands in the JSON; figure, machine and versions on the page."""
    outcome = Outcome({"hello": "µs", "browser": "µs"})
    outcome.add("clusterd", "hello", 13.0, 12.0, 14.0)
    outcome.figure("hello, of uvicorn", 0.47, 0.5)
    outcome.notes.append("a peer failed")
    used = Environment("python", {"python": "3.13.0", "uvicorn": "0.54.0"})
    report.record("hello", outcome, used, {"cores": 2}, tmp_path)
    report.write_page(ALL, tmp_path)
    recorded = json.loads((tmp_path / "hello.json").read_text())
    assert recorded["samples"]["clusterd"]["hello"] == [13.0, 12.0, 14.0]
    page = (tmp_path / report.PAGE).read_text()
    assert "| hello | hello, of uvicorn | ≤ 0.5 | 0.47 | yes |" in page
    assert "| clusterd | 13 (12–14) |  |" in page
    assert "cores 2" in page
    assert "uvicorn 0.54.0" in page
    assert "a peer failed" in page


def test_every_scenario_says_what_it_measures() -> None:
    """The first line of each is what --help shows, in one line."""
    for name, scenario in ALL.items():
        first = (scenario.__doc__ or "").splitlines()[0]
        assert 20 < len(first) <= 100, name
