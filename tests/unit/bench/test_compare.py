"""A change is called one only where turns that were equal would not have shown it."""

import random
from collections.abc import Sequence
from dataclasses import replace

import pytest

from clusterd.bench import compare as module
from clusterd.bench.compare import BETTER, SAME, UNKNOWN, WORSE, Change, Comparison, compare, text
from clusterd.bench.histogram import Histogram
from clusterd.bench.load import Load
from clusterd.bench.results import Report, ServerUse, Side, Turn
from tests.support import reports


def report(throughputs: Sequence[int], latency: int = 4_000, **more: object) -> Report:
    """One side, with these throughputs in its turns."""
    turns = []
    for number, many in enumerate(throughputs):
        shifted = latency + 7 * (number % 3)  # no two turns are quite alike
        made = Turn(
            "1 worker",
            number,
            Load(),
            seconds=1.0,
            requests=many,
            latency=Histogram.of({shifted: many}),
            server=ServerUse(cpu=many * (80 + number % 2) * 1e-6, pss=40 * 2**20),
        )
        for name, value in more.items():
            setattr(made, name, value)
        turns.append(made)
    return Report("app", "now", sides=[Side("1 worker")], turns=turns)


def change(found: Comparison, figure: str) -> Change:
    (one,) = [one for one in found.changes if one.figure == figure]
    return one


BEFORE = (10_000, 10_200, 9_900, 10_100)


@pytest.mark.parametrize(
    ("after", "verdict"),
    [
        ((12_000, 12_200, 11_900), BETTER),
        ((8_000, 8_200, 7_900), WORSE),
        ((10_300, 9_800, 10_200), SAME),
        ((9_000, 12_500, 10_800), SAME),  # it strays too much to say
        ((5_000,), UNKNOWN),
    ],
)
def test_throughput_changed_or_it_is_noise(after: Sequence[int], verdict: str) -> None:
    found = change(compare(report(BEFORE), report(after)), "throughput")
    assert found.verdict == verdict
    assert found.ratio is not None
    assert (found.ratio.low is None) is (verdict == UNKNOWN)


def test_of_latency_less_is_better() -> None:
    found = compare(report(BEFORE), report(BEFORE, latency=3_000))
    assert change(found, "p50").verdict == BETTER
    assert change(compare(report(BEFORE, 3_000), report(BEFORE)), "p99").verdict == WORSE
    assert [one.figure for one in compare(report(BEFORE, 3_000), report(BEFORE)).worse] == [
        "mean",
        "p50",
        "p90",
        "p99",
    ]


def test_the_same_run_twice_has_no_change() -> None:
    for made in (reports.report(rounds=3), reports.ladder_of_rates(), reports.chaos()):
        found = compare(made, made)
        assert found.changes
        assert not [one for one in found.changes if one.changed]


def test_equal_servers_look_changed_as_rarely_as_it_says() -> None:
    """One in twenty, about: whoever gates on it must not be woken every night."""
    dice, woken, tries = random.Random(11), 0, 80
    for _ in range(tries):
        both = [report([round(dice.gauss(10_000, 300)) for _ in range(3)]) for _ in range(2)]
        woken += change(compare(*both), "throughput").changed
    assert woken / tries <= 0.1


def test_what_the_histogram_cannot_tell_is_no_change() -> None:
    """Turns without any noise: 4,000 and 4,004 µs may be the same bucket's neighbours."""
    same = [report([10_000] * 3, latency=value) for value in (40_000, 40_050)]
    for made in same:
        for turn in made.turns:
            turn.latency = made.turns[0].latency
    assert change(compare(*same), "p50").verdict == SAME


def test_percentiles_that_turns_do_not_carry_are_not_compared() -> None:
    figures = [one.figure for one in compare(report((500, 510)), report((505, 490))).changes]
    assert "p90" in figures
    assert "p99" not in figures


def test_a_percentile_of_the_lucky_turns_only_is_not_compared() -> None:
    """Turns that were too slow to carry p99.9 must not drop out of it."""
    figures = [one.figure for one in compare(report((9_900, 10_100)), report(BEFORE)).changes]
    assert "p99.9" not in figures
    figures = [one.figure for one in compare(report((10_100, 10_100)), report((12_000,))).changes]
    assert "p99.9" in figures


def errors(*counts: int) -> Report:
    made = report([100_000] * len(counts))
    for turn, many in zip(made.turns, counts, strict=True):
        turn.errors = {"reset": many} if many else {}
    return made


@pytest.mark.parametrize(
    ("before", "after", "verdict"),
    [
        ((0, 0), (0, 0), SAME),
        ((0, 0), (1, 0), SAME),
        ((0, 0), (30, 40), WORSE),
        ((30, 40), (0, 0), BETTER),
        ((100, 110), (95, 120), SAME),
        ((100, 110), (300, 280), WORSE),
    ],
)
def test_errors_changed_or_it_is_chance(
    before: tuple[int, ...], after: tuple[int, ...], verdict: str
) -> None:
    assert change(compare(errors(*before), errors(*after)), "errors").verdict == verdict


def test_errors_are_compared_by_share_where_runs_differ_in_length() -> None:
    longer = errors(*[100] * 8)
    assert change(compare(errors(100, 100), longer), "errors").verdict == SAME


def test_what_else_differs_is_told() -> None:
    before, after = reports.report(), reports.report()
    after.machine["cores"] = "8"
    after.versions.pop("uvloop")
    after.settings["connections"] = "128"
    after.target, after.interrupted = "other:app", True
    notes = compare(before, after).notes
    for wanted in (
        "the target differs: module:app before, other:app after",
        "machine cores differs: 4 before, 8 after",
        "version uvloop differs: 0.21.0 before, none after",
        "setting connections differs: 64 before, 128 after",
        "the second report is of a run that was interrupted",
    ):
        assert wanted in notes


def test_another_load_is_not_compared() -> None:
    after = report(BEFORE)
    for turn in after.turns:
        turn.load = Load(connections=128)
    found = compare(report(BEFORE), after)
    assert not found.changes
    assert found.notes == ["1 worker: its load differs, so it is not compared"]
    assert "nothing could be compared" in text(found)


def test_sides_of_one_report_only_are_named() -> None:
    found = compare(reports.report(), reports.report((reports.ONE, reports.OTHERS[0])))
    assert {one.side.name for one in found.changes} == {"1 worker"}
    assert "4 workers is only in the first report" in found.notes
    assert "gunicorn is only in the second report" in found.notes


def test_ladders_are_compared_load_by_load() -> None:
    made = reports.ladder_of_connections()
    shorter = replace(made, turns=made.turns[:-2])
    found = compare(made, shorter)
    loads = {one.load.connections for one in found.changes}
    assert loads == {1, 4, 16, 64, 256, 1024}
    assert "1 worker: loads of only one report are not compared" in found.notes
    assert "4 workers, 64 connections" in text(found)


def test_the_rates_that_searches_found_are_compared() -> None:
    before, after = reports.ladder_of_rates(), reports.ladder_of_rates()
    after.searches[0] = replace(after.searches[0], rate=9_400.0)
    found = compare(before, after)
    highest = [one for one in found.changes if one.figure == module.HIGHEST]
    assert [(one.before.median, one.after.median) for one in highest] == [
        (10_100, 9_400),
        (36_400, 36_400),
    ]
    assert {one.verdict for one in highest} == {UNKNOWN}
    assert any("driven at 10,100/s before and at 9,400/s after" in one for one in found.notes)


def test_few_turns_are_told() -> None:
    one, two, three = (compare(report(BEFORE[:n]), report(BEFORE[:n])) for n in (1, 2, 3))
    assert "one turn does not say how turns differ" in one.notes[-1]
    assert "2 turns tell gross changes only" in two.notes[-1]
    assert not three.notes


def test_many_figures_and_a_change_among_them_are_told_with_care() -> None:
    before = report([10_000] * 4)
    other = replace(before, sides=[Side("2")], turns=[replace(t, side="2") for t in before.turns])
    both = [
        replace(before, sides=[*before.sides, *other.sides], turns=[*made.turns, *other.turns])
        for made in (before, report([12_000] * 4))
    ]
    assert "one in twenty" in compare(both[0], both[1]).notes[-1]


def test_doubts_of_both_are_told() -> None:
    found = compare(reports.report(), reports.doubtful())
    assert any(one.startswith("4 workers, after: the generator was") for one in found.notes)


def test_a_doubt_that_many_have_is_told_once() -> None:
    before, after = reports.report(), reports.report()
    for made in (before, after):
        for turn in made.turns:
            turn.doubts = ["cores were shared"]
    after.turns[0].doubts.append("it ended")
    notes = compare(before, after).notes
    shared = [one for one in notes if "cores were shared" in one]
    assert shared == ["1 worker and 4 workers, before and after: cores were shared (2 of 2 turns)"]
    assert "1 worker, after: it ended (1 of 2 turns)" in notes


def test_it_is_told_as_a_table() -> None:
    found = compare(report(BEFORE), report((12_000, 12_200, 11_900)))
    lines = text(found).splitlines()
    assert lines[0].split() == ["1", "worker", "before", "after", "change", "95", "%", "interval"]
    row = next(line for line in lines if line.startswith("throughput"))
    assert "10,050/s" in row
    assert "12,000/s" in row
    assert row.endswith("BETTER")
    assert "+19" in row
    assert next(line for line in lines if line.startswith("p50")).endswith("within the noise")


def test_what_became_a_multiple_is_told_as_one() -> None:
    found = compare(report((1_000, 1_010)), report((10_000, 10_100)))
    assert "10.0 ×" in text(found)
