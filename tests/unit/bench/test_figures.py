"""Figures are of all requests together, and none is shown that the requests cannot carry."""

import math
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clusterd.bench import figures as module
from clusterd.bench import paced
from clusterd.bench.figures import FEW, LOST, Figures, figures, main, of_turn, percentile
from clusterd.bench.histogram import Histogram
from clusterd.bench.load import Load
from clusterd.bench.results import Event, Moment, Report, Search, ServerUse, Side, Spin, Turn
from tests.support import reports


def turn(side: str, counts: dict[int, int], round_: int = 1, **more: object) -> Turn:
    """A turn with these latencies."""
    many = sum(counts.values())
    made = Turn(side, round_, Load(), seconds=1.0, requests=many, latency=Histogram.of(counts))
    for name, value in more.items():
        setattr(made, name, value)
    return made


def report(*turns: Turn, sides: list[Side] | None = None, spin: Spin | None = None) -> Report:
    names = dict.fromkeys(one.side for one in turns)
    return Report("app", "now", sides=sides or [Side(n) for n in names], turns=[*turns], spin=spin)


def only(found: list[Figures]) -> Figures:
    assert len(found) == 1
    return found[0]


def test_percentiles_are_of_all_requests_and_no_mean_of_turns() -> None:
    """A turn that is slow throughout beside a fast one that did nine times as much."""
    one = only(figures(report(turn("a", {100: 90_000}), turn("a", {10_000: 10_000}, 2))))
    p50, p99 = one.percentiles["p50"], one.percentiles["p99"]
    assert p50.value == 100
    assert p50.low == 100
    assert p50.high == pytest.approx(10_000, rel=0.001)
    assert p99.value == pytest.approx(10_000, rel=0.001)
    assert one.mean == pytest.approx(0.9 * 100 + 0.1 * 10_000, rel=0.001)


@given(st.lists(st.integers(1, 2_000), min_size=1, max_size=300), st.integers(1, 4))
def test_however_requests_fall_into_turns_the_percentiles_are_the_same(
    values: list[int], parts: int
) -> None:
    turns = [turn("a", Counter(values[n::parts]), n) for n in range(parts)]
    found = only(figures(report(*turns)))
    for name, one in found.percentiles.items():
        wanted = sorted(values)[max(0, math.ceil(round(len(values) * one.percent / 100, 6)) - 1)]
        assert one.value == wanted, name


@pytest.mark.parametrize(
    ("percent", "enough"),
    [(50.0, 20), (90.0, 100), (99.0, 1_000), (99.9, 10_000), (99.99, 100_000)],
)
def test_a_percentile_takes_ten_requests_beyond_it(percent: float, enough: int) -> None:
    assert percentile(percent, Histogram.of({7: enough})).why == ""
    assert percentile(percent, Histogram.of({7: enough - 1})).why == FEW
    assert percentile(percent, Histogram.of({7: enough - 1})).value == 7


def test_p99_99_of_few_requests_is_only_their_largest_and_says_so() -> None:
    found = percentile(99.99, Histogram.of({100: 499, 9_000: 1}))
    assert found.why == FEW
    assert found.value == pytest.approx(9_000, rel=0.001)


def test_requests_that_were_never_answered_are_slower_than_any() -> None:
    """Most tools leave out timeouts: 5 % of them, and their p99 is that of the fortunate."""
    latency = Histogram.of({100: 9_400, 50_000: 100})
    assert percentile(99.0, latency).value == pytest.approx(50_000, rel=0.001)
    assert percentile(94.0, latency, missing=500).value == 100
    assert percentile(94.5, latency, missing=500).value == pytest.approx(50_000, rel=0.001)
    found = percentile(99.0, latency, missing=500)
    assert (found.value, found.why) == (None, LOST)


@given(st.lists(st.integers(1, 10**7), min_size=1), st.integers(0, 50), st.floats(0.1, 99.99))
def test_a_percentile_is_that_of_the_lost_with_endless_latencies(
    values: list[int], lost: int, percent: float
) -> None:
    every = sorted([*map(float, values), *[math.inf] * lost])
    wanted = every[max(1, math.ceil(round(len(every) * percent / 100, 6))) - 1]
    found = percentile(percent, Histogram.of(Counter(values)), lost)
    if math.isinf(wanted):
        assert (found.value, found.why) == (None, LOST)
    else:
        assert found.value == pytest.approx(wanted, rel=0.001)


def test_errors_that_are_no_lost_requests() -> None:
    """A status was an answer; who could not connect had his requests wait, if it is kept."""
    errors = {"status 503": 9, "connect": 8, "tls": 4, "timeout": 2, "reset": 1}
    assert module.unanswered(Load(), errors) == 3
    assert module.unanswered(Load(fresh=True), errors) == 15
    found = only(figures(report(turn("a", {100: 100}, errors=errors))))
    assert (found.failed, found.lost) == (24, 3)
    assert found.error_share == pytest.approx(24 / 115)
    assert list(found.errors) == ["status 503", "connect", "tls", "timeout", "reset"]


def ended(rate: float, counts: dict[int, int], unanswered: int, behind: int = 0) -> Turn:
    """With so much that was due and had no answer at the end."""
    moments = [Moment(0, behind=behind)]
    load = Load(rate=rate)
    return replace(turn("a", counts), load=load, unanswered=unanswered, moments=moments)


def test_connections_that_could_not_be_made_are_a_share_of_all_that_was_tried() -> None:
    one = turn("a", {100: 51}, errors={"connect": 157, "reset": 2})
    assert of_turn(one).error_share == pytest.approx(159 / (51 + 159))


def test_what_the_open_loop_left_undone_is_slower_than_what_it_did() -> None:
    """A stall at the end has no answers: p99 must know of it all the same."""
    found = only(figures(report(ended(1_000.0, {500: 800}, unanswered=64, behind=136))))
    assert found.lost == 200
    assert found.percentiles["p75"].value == 500
    assert found.percentiles["p90"].why == LOST


def test_the_end_waits_as_long_as_it_is_thought_to() -> None:
    assert module.DRAIN * 1e9 == paced.DRAIN


def test_what_a_closed_loop_has_under_way_was_not_lost() -> None:
    assert module.lost(ended(0.0, {500: 800}, unanswered=64)) == 0
    cut_off = replace(ended(1_000.0, {500: 800}, unanswered=64), partial=True)
    assert module.lost(cut_off) == 0


def test_where_answers_take_longer_than_the_end_some_are_always_under_way() -> None:
    """3 s each at 100/s: 200 are under way a second after the end. 900 are a stall."""
    assert module.lost(replace(ended(100.0, {3_000_000: 1_000}, 205), seconds=10.0)) == 0
    assert module.lost(replace(ended(100.0, {3_000_000: 1_000}, 900), seconds=10.0)) == 900
    assert module.lost(replace(ended(100.0, {3_000: 1_000}, 1), seconds=10.0)) == 1


def test_nothing_answered_is_no_figure_and_all_errors() -> None:
    found = only(figures(report(turn("a", {}, errors={"connect": 3}))))
    assert (found.requests, found.error_share, found.max) == (0, 1.0, 0)
    assert {(one.value, one.why) for one in found.percentiles.values()} == {(None, FEW)}
    assert found.cpu is None
    quiet = only(figures(report(turn("a", {}))))
    assert quiet.error_share == 0


def use(**more: object) -> ServerUse:
    made = ServerUse(cpu=1.0, pss=100)
    for name, value in more.items():
        setattr(made, name, value)
    return made


def test_balance_is_most_by_mean() -> None:
    even = turn("a", {1: 100}, server=use(requests_by_worker={1: 50, 2: 50}))
    uneven = turn("a", {1: 100}, 2, server=use(requests_by_worker={3: 90, 4: 10}))
    found = only(figures(report(even, uneven)))
    assert found.balance is not None
    assert found.balance.values == (1.0, 1.8)
    assert not found.balance_by_cpu


def test_balance_of_a_server_that_does_not_tell_is_of_cpu_time() -> None:
    found = only(figures(report(turn("a", {1: 9}, server=use(cpu_by_worker={1: 3.0, 2: 1.0})))))
    assert found.balance is not None
    assert (found.balance.median, found.balance_by_cpu) == (1.5, True)


@pytest.mark.parametrize("by", [{1: 100}, {1: 0, 2: 0}, {}])
def test_there_is_no_balance_of_one(by: dict[int, int]) -> None:
    assert (
        only(figures(report(turn("a", {1: 9}, server=use(requests_by_worker=by))))).balance is None
    )


def test_there_is_no_balance_where_workers_came_and_went() -> None:
    made = turn("a", {1: 9}, server=use(requests_by_worker={1: 5, 2: 1}))
    made.events = [Event(0.5, "kill")]
    assert only(figures(report(made))).balance is None


def test_what_is_known_of_some_turns_is_of_those() -> None:
    found = only(figures(report(turn("a", {1: 100}, server=use()), turn("a", {1: 100}, 2))))
    assert found.cpu is not None
    assert found.pss is not None
    assert (found.cpu.values, found.pss.values) == ((10_000.0,), (100,))


def test_alike_doubts_are_told_once_with_how_many_turns_have_them() -> None:
    turns = [
        turn("a", {1: 1_000}, 1, doubts=["used 99 % of a core", "it ended"]),
        turn("a", {1: 1_000}, 2, doubts=["used 97 % of a core"]),
    ]
    assert only(figures(report(*turns))).doubts == (
        "used 99 % of a core (2 of 2 turns)",
        "it ended (1 of 2 turns)",
    )


def test_turns_that_lie_far_apart_are_a_doubt() -> None:
    found = only(figures(report(turn("a", {1: 1_000}), turn("a", {1: 1_300}, 2))))
    assert "throughputs lie 26 % apart" in found.doubts[0]
    assert not only(figures(report(turn("a", {1: 1_000}), turn("a", {1: 1_050}, 2)))).doubts


def test_speed_up_is_over_the_same_server_with_the_fewest_workers() -> None:
    sides = [Side("4", "run", 4), Side("1", "run", 1), Side("gunicorn", "other", 4), Side("x")]
    turns = [
        turn(name, {100: many}, round_)
        for round_, share in ((1, 100), (2, 101))
        for name, many in (("4", 36 * share), ("1", 10 * share), ("gunicorn", 5), ("x", 7))
    ]
    made = report(*turns, sides=sides, spin=Spin(4, per_second=0.95, per_cpu=0.98))
    made.machine = {"cores": "4"}
    four, one, other, url = figures(made)
    assert (one.speedup, other.speedup, url.speedup) == (None, None, None)
    found = four.speedup
    assert found is not None
    assert found.throughput is not None
    assert (found.over, found.workers, found.cores) == ("1", 4.0, 4.0)
    assert found.throughput.value == pytest.approx(3.6)
    assert found.throughput.low is not None
    assert found.throughput.low < 3.6
    assert found.efficiency == pytest.approx(0.9)
    assert found.fair == pytest.approx(0.9 / 0.95)


@pytest.mark.parametrize(
    ("machine", "pinned", "cores"),
    [
        ({"cores": "2"}, (), 2.0),
        ({"cores": "8 (of 16)"}, (), 4.0),
        ({}, (0, 1, 2), 3.0),
        ({}, (), 4.0),
    ],
)
def test_efficiency_is_by_cores_and_no_more_than_there_are(
    machine: dict[str, str], pinned: tuple[int, ...], cores: float
) -> None:
    sides = [Side("1", "run", 1, pinned), Side("4", "run", 4, pinned)]
    made = report(turn("1", {1: 100}), turn("4", {1: 180}), sides=sides)
    made.machine = machine
    found = figures(made)[1].speedup
    assert found is not None
    assert found.cores == cores
    assert found.efficiency == pytest.approx(1.8 / cores)


def test_cpu_time_compares_also_where_throughput_cannot() -> None:
    """Open loop: both answer what is due; and what one costs is told by what the other does."""
    sides = [Side("1", "run", 1), Side("2", "run", 2)]
    load = Load(rate=100.0)
    turns = [
        replace(turn("1", {1: 100}), load=load, server=use(cpu=0.9)),
        replace(turn("2", {1: 100}), load=load, server=use(cpu=1.0)),
    ]
    spin = Spin(2, per_cpu=0.9)
    found = figures(report(*turns, sides=sides, spin=spin))[1].speedup
    assert found is not None
    assert found.cpu is not None
    assert found.throughput is None
    assert found.efficiency is None
    assert found.cpu.value == pytest.approx(0.9)
    assert found.fair_cpu == pytest.approx(1.0)


def test_a_spin_on_other_cores_says_nothing() -> None:
    sides = [Side("1", "run", 1), Side("2", "run", 2)]
    made = report(turn("1", {1: 9}), turn("2", {1: 9}), sides=sides, spin=Spin(4, per_second=0.5))
    found = figures(made)[1].speedup
    assert found is not None
    assert found.fair is None


def test_turns_are_put_together_only_under_the_same_load() -> None:
    made = reports.ladder_of_connections((reports.ONE,))
    found = figures(made)
    assert [one.load.connections for one in found] == [1, 4, 16, 64, 256, 1024, 4096]
    assert all(len(one.turns) == 1 for one in found)


def test_of_a_ladder_the_load_speaks_under_which_a_side_answers_most() -> None:
    made = reports.ladder_of_connections()
    for one in main(made):
        assert one.throughput.median == max(t.throughput for t in made.of(one.side.name))


def test_of_a_search_the_rate_speaks_that_was_found() -> None:
    made = reports.ladder_of_rates()
    first, second = main(made)
    rates = {search.side: search.rate for search in made.searches}
    assert (first.load.rate, second.load.rate) == tuple(rates.values())
    assert second.speedup is not None
    assert second.speedup.rate is not None
    assert second.speedup.rate == pytest.approx(rates["4 workers"] / rates["1 worker"])
    assert second.speedup.efficiency == pytest.approx(second.speedup.rate / 4)


def test_of_probes_and_confirmation_at_a_rate_the_longer_speaks() -> None:
    short, whole = Load(rate=100.0, duration=3.0), Load(rate=100.0, duration=10.0)
    turns = [replace(turn("a", {1: 50}), load=load) for load in (short, whole)]
    made = report(*turns)
    made.searches = [Search("p99<1s", "a", 100.0)]
    assert only(main(made)).load == whole


def test_a_side_that_found_no_rate_still_has_figures() -> None:
    made = reports.ladder_of_rates()
    made.searches = [replace(search, rate=0.0) for search in made.searches]
    assert [one.side.name for one in main(made)] == ["1 worker", "4 workers"]


def test_sides_without_a_turn_are_left_out() -> None:
    made = report(turn("a", {1: 1}), sides=[Side("a"), Side("b")])
    assert [one.side.name for one in main(made)] == ["a"]
