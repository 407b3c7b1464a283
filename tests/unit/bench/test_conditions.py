"""Conditions mean what people who write them mean, and a gate that cannot see stays shut."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clusterd.bench import conditions
from clusterd.bench.conditions import judge, parse, parse_all, parse_slo
from clusterd.bench.histogram import Histogram
from clusterd.bench.load import Load
from clusterd.bench.results import Moment, Report, ServerUse, Side, Turn
from clusterd.core.errors import ConfigError
from tests.support import reports


def turn(**more: object) -> Turn:
    """A second of 100,000 answers: 98 % in 1 ms, the others in 40 ms."""
    counts = {1_000: 98_000, 40_000: 2_000}
    made = Turn(
        "1 worker",
        1,
        Load(),
        seconds=1.0,
        requests=100_000,
        latency=Histogram.of(counts),
        lag=Histogram.of({30: 100_000}),
        connections=64,
        server=ServerUse(2.5, requests_by_worker={1: 60_000, 2: 40_000}, pss=50 * 2**20),
    )
    for name, value in more.items():
        setattr(made, name, value)
    return made


def report(*turns: Turn) -> Report:
    return Report("app", "now", sides=[Side(one.side) for one in turns], turns=list(turns))


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("p99<50ms", 50_000),
        ("p99.9 <= 1.5 s", 1_500_000),
        ("P50>800us", 800),
        ("mean<1ms", 1_000),
        ("max>1s", 1_000_000),
        ("cpu<90µs", 90),
        ("throughput<10k", 10_000),
        ("throughput>=1.5M/s", 1_500_000),
        ("throughput<200/s", 200),
        ("errors>0", 0),
        ("errors>0.1%", 0.001),
        ("pss>64MiB", 64 * 2**20),
        ("pss>1g", 2**30),
        ("balance>1.2", 1.2),
        ("speedup<1.8x", 1.8),
        ("efficiency<90%", 0.9),
        ("efficiency<0.9", 0.9),
        ("lag>200us", 200),
        ("connections<4096", 4096),
        ("requests<1000", 1000),
    ],
)
def test_what_people_write(text: str, limit: float) -> None:
    assert parse(text).limit == pytest.approx(limit)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "no condition"),
        ("p99", "no condition"),
        ("p99=50ms", "no condition"),
        ("p99<", "no condition"),
        ("p99<fast", "no condition"),
        ("p99<-5ms", "no condition"),
        ("99<50ms", "no condition"),
        ("p99<50", "p99 has a unit"),
        ("p99<50MB", "'mb' is no unit of p99"),
        ("p0<50ms", "between 0 and 100"),
        ("p100<50ms", "between 0 and 100"),
        ("p<50ms", "no figure 'p'"),
        ("latency<50ms", "no figure 'latency'"),
        ("errors5>0", "no figure 'errors5'"),
        ("throughput<50ms", "'ms' is no unit of throughput"),
    ],
)
def test_what_is_no_condition_is_refused_with_how_it_is_written(text: str, word: str) -> None:
    with pytest.raises(ConfigError, match=word) as caught:
        parse(text)
    assert caught.value.remedy


@given(st.text(max_size=30))
def test_anything_else_is_refused_in_one_way(text: str) -> None:
    try:
        parsed = parse(text)
    except ConfigError:
        return
    assert parsed.text == text.strip()


def test_several_at_once() -> None:
    assert [one.metric for one in parse_all("p99<50ms, errors<1%")] == ["p", "errors"]
    with pytest.raises(ConfigError):
        parse_all("p99<50ms,")


@pytest.mark.parametrize("text", ["p99>50ms", "speedup>2", "efficiency>0.9", "1 worker: p99<1s"])
def test_what_no_rate_can_be_searched_by(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_slo(text)


def test_a_target_of_a_search() -> None:
    assert len(parse_slo("p99<50ms,errors<0.1%")) == 2


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("p98<1ms", False),  # it is 1 ms
        ("p98<=1ms", True),
        ("p98<2ms", True),
        ("p99<2ms", False),
        ("p99<50ms", True),
        ("mean<2ms", True),
        ("max<39ms", False),
        ("throughput>99k", True),
        ("errors<1", True),
        ("cpu<25us", False),
        ("cpu<=25us", True),
        ("pss<49MiB", False),
        ("balance<1.3", True),
        ("lag<31us", True),
        ("connections>=64", True),
        ("requests<100k", False),
        ("speedup>1", False),
    ],
)
def test_whether_a_turn_keeps_it(text: str, kept: bool) -> None:
    assert parse(text).keeps(turn()) is kept


def test_a_turn_with_lost_requests_keeps_no_percentile_that_they_are_beyond() -> None:
    """2 % timed out: nobody knows their latency, but it was not below 50 ms."""
    slow = turn(errors={"timeout": 2_000})
    assert not parse("p99<50ms").keeps(slow)
    assert parse("p95<50ms").keeps(slow)
    assert not parse("errors<1%").keeps(slow)
    assert parse("errors<2%").keeps(slow)


def test_a_turn_without_an_answer_keeps_nothing() -> None:
    dead = turn(requests=0, latency=Histogram(), errors={"connect": 5})
    for text in ("p99<50ms", "errors<100%", "max<1s", "throughput<5", "requests<5"):
        assert not parse(text).keeps(dead), text


def test_each_side_is_judged_and_says_what_it_has() -> None:
    found = judge(parse("p50>2ms"), reports.report())
    assert [(one.side.name, one.met, one.fails) for one in found] == [
        ("1 worker", True, True),
        ("4 workers", False, False),
    ]
    assert found[0].text.startswith("1 worker: p50 is 4.0")
    assert found[0].text.endswith("(p50>2ms)")


def test_one_side_alone() -> None:
    (found,) = judge(parse("4 Workers: p50>2ms"), reports.report())
    assert (found.side.name, found.met) == ("4 workers", False)


@pytest.mark.parametrize("text", ["nobody: p99>1s", "lag>1ms", "2 workers: errors>0"])
def test_what_cannot_be_judged_fails_the_gate(text: str) -> None:
    found = judge(parse(text), reports.report())
    assert found
    for one in found:
        assert (one.met, one.fails) == (None, True)
        assert "cannot be judged" in one.text


def test_a_side_without_a_turn_fails_the_gate() -> None:
    made = reports.report()
    made.turns = made.of("1 worker")
    assert [one.fails for one in judge(parse("errors>0"), made)] == [False, True]


def test_comparing_figures_are_of_the_sides_that_are_compared() -> None:
    (found,) = judge(parse("speedup<3"), reports.report())
    assert (found.side.name, found.met) == ("4 workers", False)
    (found,) = judge(parse("efficiency<95%"), reports.report())
    assert found.met
    (alone,) = judge(parse("speedup<3"), report(turn()))
    assert alone.fails


def test_what_a_search_tries_on_its_way_fails_nothing() -> None:
    made = reports.ladder_of_rates()
    made.turns[6] = replace(made.turns[6], errors={"timeout": 9_000})  # beyond the found rate
    assert not any(one.fails for one in judge(parse("errors>0"), made))


def test_few_requests_are_told_with_the_verdict() -> None:
    few = turn(requests=500, latency=Histogram.of({1_000: 500}))
    (found,) = judge(parse("p99.99>50ms"), report(few))
    assert (found.met, found.weak) == (False, "500 latencies are too few for p99.99")


def test_lost_requests_are_beyond_any_limit() -> None:
    (found,) = judge(parse("p99>50ms"), report(turn(errors={"timeout": 3_000})))
    assert found.met
    assert "beyond all that was answered" in found.text
    assert found.weak == "3,000 requests were never answered"


def test_errors_by_number_and_by_share() -> None:
    made = report(turn(errors={"status 500": 100}))
    for text, met in (("errors>99", True), ("errors>100", False), ("errors>=0.1%", True)):
        assert [one.met for one in judge(parse(text), made)] == [met], text
    assert judge(parse("errors>99"), made)[0].text == "1 worker: errors are 100 (errors>99)"


def test_errors_of_the_warm_up_are_errors_to_a_gate() -> None:
    """It is cut off for speed's sake, not for that of who came early."""
    early = Moment(0, requests=900, errors={"reset": 5})
    made = report(turn(warmup=1, moments=[early, Moment(1)]))
    (found,) = judge(parse("errors>0"), made)
    assert found.met
    assert (found.value, found.weak) == (5, "5 of them in the warm-up")
    (found,) = judge(parse("errors>0.1%"), made)
    assert found.value == pytest.approx(5 / 100_905)
    assert not parse("errors<5").keeps(made.turns[0])


def test_every_figure_can_be_asked_for() -> None:
    """And none raises on a report that lacks it."""
    bare = report(turn(server=None, lag=None))
    for name, metric in conditions.METRICS.items():
        unit = next(unit for unit in metric.units if unit or unit in metric.units)
        text = f"{'p99' if name == 'p' else name}>1{unit}"
        assert judge(parse(text), bare)
        assert judge(parse(text), reports.report())
