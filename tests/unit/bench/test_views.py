"""What pictures show, as numbers."""

import pytest

from clusterd.bench.figures import main
from clusterd.bench.histogram import Histogram
from clusterd.bench.views import Curve, balance, by_load, chosen, family, shortened
from tests.support import reports


def test_a_curve_reads_as_the_sorted_values_do() -> None:
    values = [3, 3, 5, 8, 13, 21, 34, 55, 89, 144] * 10
    curve = Curve.of(Histogram.of({value: values.count(value) for value in values}))
    assert curve.at(0) == 3
    assert curve.at(1) == sorted(values)[89]  # p90: 90 of 100 are not above it
    assert curve.at(curve.nines) == 144
    assert curve.nines == pytest.approx(2)
    assert curve.sure == pytest.approx(1)  # 10 of 100 lie beyond


def test_requests_that_were_never_answered_end_the_curve() -> None:
    """With 10 of 100 lost nobody knows what 95 % did not exceed."""
    curve = Curve.of(Histogram.of({5: 45, 9: 45}), lost=10)
    assert curve.nines == pytest.approx(1)
    assert curve.at(curve.nines) == 9
    assert curve.at(0.2) == 5  # 37 of 100


def test_nothing_has_no_curve() -> None:
    curve = Curve.of(Histogram())
    assert (curve.count, curve.nines, curve.sure) == (0, 0.0, 0.0)


def test_each_side_is_shown_under_the_load_that_speaks_for_it() -> None:
    """Of a search the rate that it found; sides without an answer are left out."""
    report = reports.ladder_of_rates()
    views = chosen(main(report), report)
    assert [view.turns[0].load.rate for view in views] == [s.rate for s in report.searches]
    for turn in report.turns:
        if turn.side == "1 worker":
            turn.requests, turn.latency = 0, Histogram()
    assert [view.number for view in chosen(main(report), report)] == [1]


def test_loads_come_in_their_order() -> None:
    report = reports.ladder_of_connections()
    views = by_load(report, report.sides[1], 1)
    assert [view.turns[0].load.connections for view in views] == [1, 4, 16, 64, 256, 1024, 4096]


def test_workers_are_balanced_by_their_fair_share() -> None:
    report = reports.report()
    views = chosen(main(report), report)
    (share,) = balance(views)  # a single worker has nobody to be compared with
    assert share.view.side.name == "4 workers"
    assert len(share.shares) == 4 * len(share.view.turns)
    assert sum(share.shares) == pytest.approx(len(share.shares))
    assert not share.by_cpu
    for turn in report.turns:
        assert turn.server is not None
        turn.server.requests_by_worker.clear()
    assert balance(chosen(main(report), report))[0].by_cpu


def test_workers_that_came_and_went_have_no_fair_share() -> None:
    report = reports.chaos()
    assert balance(chosen(main(report), report)) == []


def test_a_family_is_one_command_with_several_numbers_of_workers() -> None:
    report = reports.crowded()
    found = family(chosen(main(report), report))
    assert [view.side.workers for view in found] == [1, 2, 4]
    two = reports.report()
    assert family(chosen(main(two), two)) == []


def test_names_are_cut_and_harmless() -> None:
    assert shortened("gunicorn") == "gunicorn"
    assert shortened("a name that is much longer than a label", 12) == "a name that…"
    assert "\n" not in shortened("two\nlines")
    shortened("from argv: \udcff").encode()
