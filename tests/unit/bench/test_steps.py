"""Of several loads, a line for each and side."""

from clusterd.bench.load import Load
from clusterd.bench.results import Report, Side
from clusterd.bench.steps import steps
from tests.support import reports


def test_a_ladder_of_connections_is_shown_from_few_to_many() -> None:
    report = reports.ladder_of_connections()
    head, *lines = steps(report).splitlines()
    assert head.split() == ["connections", "side", "answers", "p50", "p99", "failed"]
    sides = [side.name for side in report.sides]
    numbers = sorted({turn.load.connections for turn in report.turns})
    assert len(lines) == len(numbers) * len(sides)
    firsts = [line.split()[0].replace(",", "") for line in lines[:: len(sides)]]
    assert firsts == [str(number) for number in numbers]
    for number, line in enumerate(lines):
        assert sides[number % len(sides)] in line
    assert len({line.index(sides[0]) for line in lines if sides[0] in line}) == 1


def test_rates_are_told_as_rates() -> None:
    shown = steps(reports.ladder_of_rates()).splitlines()
    assert shown[0].split()[0] == "rate"
    assert "/s" in shown[1].split()[0]


def test_one_load_needs_no_such_table() -> None:
    assert steps(reports.report()) == ""
    assert steps(Report("a", "", sides=[Side("a")])) == ""


def test_a_step_that_answered_nothing_has_a_line_too() -> None:
    report = reports.ladder_of_connections()
    silent = report.turns[0]
    silent.load = Load(connections=100_000)
    silent.requests, silent.latency, silent.errors = 0, type(silent.latency)(), {"connect": 5}
    last = steps(report).splitlines()[-1]
    assert last.split()[0] == "100,000"
    assert last.endswith(" 5")
