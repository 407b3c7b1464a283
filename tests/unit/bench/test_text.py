"""The table at the end: everything that was measured, no wider than the terminal."""

import re

import pytest

from clusterd.bench import text
from clusterd.bench.interval import RESET
from clusterd.bench.load import Load
from tests.support import reports

MAKERS = [
    reports.report,
    reports.crowded,
    reports.chaos,
    reports.doubtful,
    reports.ladder_of_rates,
    reports.ladder_of_connections,
    reports.scaling,
]


def test_all_that_was_measured_is_there() -> None:
    shown = text.table(reports.report())
    for name in (
        "Answers a second", "Speed-up", "Efficiency a core", "p50", "p75", "p90", "p99", "p99.9",
        "p99.99", "max", "Failed requests", "Connections held", "CPU time a request",
        "Memory (PSS)", "Requests a worker", "Busiest worker", "Busiest core",
    ):  # fmt: skip
        assert re.search(rf"^  {re.escape(name)}  ", shown, re.M), name


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("width", [80, 100, 200])
def test_no_line_is_wider_than_the_terminal(make: reports.Maker, width: int) -> None:
    shown = text.table(make(), width=width)
    assert max(map(len, shown.splitlines())) <= width
    assert "\x1b" not in shown


def test_colours_change_nothing_but_colours() -> None:
    report = reports.doubtful()
    coloured = text.table(report, colours=True)
    assert "\x1b[33m" in coloured
    assert re.sub(r"\x1b\[\d+m", "", coloured) == text.table(report)


def test_doubts_and_notes_come_before_the_figures() -> None:
    shown = text.table(reports.doubtful())
    doubt = shown.index("4 workers: the generator was the bottleneck")
    note = shown.index("too few rounds to tell noise from change")
    assert shown.index("Before you believe it:") < doubt < note < shown.index("Answers a second")


@pytest.mark.parametrize("make", MAKERS)
def test_what_parentheses_mean_is_said_where_there_are_some(make: reports.Maker) -> None:
    shown = text.table(make(), width=200)
    uncertain = re.search(r"^  p[0-9.]+ .* \([0-9]", shown, re.M)
    assert ("( ): fewer than 10 requests" in shown) is bool(uncertain)


def test_a_doubt_that_all_sides_have_is_said_once() -> None:
    said = ["the generator and the server shared cores"]
    turns = [reports.turn(shape, doubts=said) for shape in (reports.ONE, reports.ALL)]
    shown = text.table(reports.report(turns=turns))
    assert shown.count("shared cores") == 1
    assert "- All sides: the generator" in shown


def test_every_kind_of_error_is_counted() -> None:
    shown = text.table(reports.chaos())
    for kind, many in (("status 503", 80), ("reset", 42), ("closed", 6)):
        assert re.search(rf"^  {kind} +{many} +{many}$", shown, re.M)


def test_what_the_last_error_said_is_there_once() -> None:
    report = reports.chaos()
    for turn in report.turns:
        turn.texts["reset"] = "Connection reset by peer"
    shown = text.table(report)
    assert "reset (1 worker, 4 workers): Connection reset by peer" in shown.splitlines()


def test_doubts_of_other_loads_are_said_where_they_say_something_else() -> None:
    report = reports.ladder_of_connections()
    for number, turn in enumerate(report.turns):
        turn.doubts.append(f"only 0.{number} s were measured")
    report.turns[0].doubts.append("something else")
    shown = text.table(report)
    assert shown.count("were measured") == 2  # of each side that is shown its own
    assert "- 1 worker with 1 connection: something else" in shown


def test_what_the_tries_of_a_search_found_raises_no_doubt() -> None:
    report = reports.ladder_of_rates()
    report.turns[0].doubts.append("the server did not keep up")
    assert "did not keep up" not in text.table(report)


def test_more_than_the_machine_can_do_is_not_left_to_be_believed() -> None:
    report = reports.report()
    assert "it says little here" not in text.table(report)
    assert report.spin is not None
    report.spin.per_cpu = 0.75
    assert "it says little here" in " ".join(text.table(report).split())


def test_what_was_done_to_a_server_is_told() -> None:
    shown = " ".join(text.table(reports.chaos(), width=200).splitlines())
    done = "8 × kill (pid 1003), 2 × reload, 2 × broken deploy (the import raises), 2 × recovered"
    assert f"1 worker: {done} 4 workers: {done}" in shown


def test_words_of_several_lines_are_told_in_one() -> None:
    report = reports.report()
    report.notes.append("nobody listens\nIs the server \x1b[1mup?")
    assert "- nobody listens Is the server \\x1b[1mup?" in text.table(report)


def test_the_share_of_the_machine_stays_where_sides_need_room() -> None:
    report = reports.report()
    for turn in report.turns:
        turn.generator.busiest, turn.generator.wanted, turn.generator.shared = 0.33, 0.5, True
        turn.generator.processes = 2
    shown = text.table(report, width=80)
    assert "of the machine" in shown
    assert re.search(r"^ +1 worker +4 workers$", shown, re.M)


def test_a_generator_that_wanted_more_than_it_got_is_told() -> None:
    turn = reports.turn(reports.ONE, shared=True)
    turn.generator.busiest, turn.generator.wanted = 0.33, 0.98
    shown = text.table(reports.report((reports.ONE,), turns=[turn]))
    assert re.search(r"Busiest core +33 %  shared cores, wanted 98 %$", shown, re.M)


def test_a_percentile_that_nobody_can_know_is_not_shown_as_a_figure() -> None:
    """5 % were never answered: p90 is a figure, p99 is not."""
    load = Load(duration=1.0)
    turn = reports.turn(reports.ONE, load=load, errors=[(2, RESET, 300)])
    shown = text.table(reports.report((reports.ONE,), turns=[turn]))
    assert re.search(r"^  p90  .* ms$", shown, re.M)
    assert re.search(r"^  p99  +∞$", shown, re.M)
    assert "∞: more requests than that were never answered." in shown


def test_few_requests_are_not_shown_as_if_they_were_many() -> None:
    shown = text.table(reports.report(rounds=1))
    assert re.search(r"^  p99\.99  +\(1[\d.]+ ms\)", shown, re.M)
    assert "( ): fewer than 10 requests lie beyond it" in shown


def test_a_name_drives_no_terminal() -> None:
    report = reports.report()
    for side, turn in zip(report.sides, report.turns, strict=False):
        side.name = turn.side = f"{side.name}\x1b[2J"
    assert "\x1b" not in text.table(report)


def test_a_report_without_turns_has_words_at_least() -> None:
    assert text.table(reports.report(turns=[])) == "Nothing was answered."
