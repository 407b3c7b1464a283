"""From the generators' intervals to a turn's figures."""

import pytest

from clusterd.bench.gathering import Gathering, deserted, sum_ends, whole_intervals
from clusterd.bench.interval import INTERVAL, Interval
from clusterd.bench.load import Load
from clusterd.bench.orders import Done
from clusterd.bench.results import Moment, Turn


def interval(number: int, requests: int = 10, **more: object) -> Interval:
    return Interval(number, requests, bytes=100, connections=4, **more)  # type: ignore[arg-type]


def test_a_moment_is_whole_when_all_have_reported_it() -> None:
    gathering = Gathering(2)
    assert gathering.whole() == []
    first = interval(0, 10, errors={"reset": 1}, latency={5: 10}, behind=2, cpu=0.1)
    gathering.add(0, first)
    gathering.add(0, interval(1))
    assert gathering.whole() == []
    gathering.add(1, interval(0, 7, errors={"reset": 2, "closed": 1}, latency={5: 3, 9: 4}))
    [one] = gathering.whole()
    assert (one.number, one.requests, one.bytes, one.connections) == (0, 17, 200, 8)
    assert one.errors == {"reset": 3, "closed": 1}
    assert one.latency.counts() == {5: 13, 9: 4}
    assert one.behind == 2
    assert one.cpu == pytest.approx(0.1)
    assert gathering.whole() == []  # each once
    assert first.latency == {}  # and held once
    gathering.add(1, interval(1))
    assert [moment.number for moment in gathering.whole()] == [1]


def test_nobody_waits_for_a_process_that_is_over_and_what_it_said_counts() -> None:
    gathering = Gathering(2)
    gathering.add(0, interval(0))
    gathering.add(1, interval(0))
    gathering.add(1, interval(1))
    assert len(gathering.whole()) == 1
    gathering.over(0)
    assert [moment.requests for moment in gathering.whole()] == [10]
    gathering.add(1, interval(2))
    gathering.over(1)
    assert [moment.requests for moment in gathering.whole()] == [10]
    assert [moment.number for moment in gathering.moments] == [0, 1, 2]


def test_nothing_reported_is_no_moment() -> None:
    gathering = Gathering(2)
    gathering.over(0)
    gathering.over(1)
    assert gathering.whole() == []


def gathered(load: Load, warmup: int, intervals: list[list[Interval]], ended: float) -> Turn:
    gathering = Gathering(len(intervals))
    for process, own in enumerate(intervals):
        for one in own:
            gathering.add(process, one)
    gathering.whole()
    turn = Turn("one", 1, load, warmup=warmup)
    gathering.sum_up(turn, ended)
    return turn


def test_the_warm_up_is_kept_and_does_not_count() -> None:
    first = interval(0, 1000, errors={"connect": 5}, latency={9999: 1000}, lag={50: 9}, cpu=0.2)
    rest = [
        interval(number, 10, errors={"status 503": 1}, latency={7: 10}, lag={2: 10}, waited=3)
        for number in (1, 2, 3)
    ]
    turn = gathered(Load(rate=40.0), 1, [[first, *rest]], 1.0)
    assert turn.seconds == pytest.approx(0.75)
    assert turn.requests == 30
    assert turn.throughput == pytest.approx(40.0)
    assert turn.bytes == 300
    assert turn.errors == {"status 503": 3}
    assert turn.latency.counts() == {7: 30}
    assert turn.lag is not None
    assert turn.lag.counts() == {2: 30}
    assert turn.waited == 9
    assert len(turn.moments) == 4
    assert turn.moments[0].errors == {"connect": 5}


def test_a_closed_loop_has_no_lag() -> None:
    assert gathered(Load(), 0, [[interval(0)]], INTERVAL).lag is None


def test_the_last_interval_may_be_short() -> None:
    turn = gathered(Load(duration=0.3), 0, [[interval(0), interval(1, 2)]], 0.3)
    assert turn.seconds == pytest.approx(0.3)
    assert turn.requests == 12
    moments = [Moment(0), Moment(1)]
    assert [one.number for one in whole_intervals(moments, 0.3)] == [0]
    assert [one.number for one in whole_intervals(moments, 0.5)] == [0, 1]


def test_what_came_after_the_end_is_answered_and_in_no_second() -> None:
    many = [interval(0, 100), interval(1, 400, latency={9: 400}, drained=300)]
    turn = gathered(Load(rate=1000.0), 0, [many], 0.5)
    assert turn.requests == 500
    assert turn.throughput == pytest.approx(400.0)
    assert [moment.in_time for moment in turn.moments] == [100, 100]
    assert turn.latency.counts() == {9: 400}


def test_the_busiest_process_is_found_and_its_waiting_not_held_against_it() -> None:
    lazy = [interval(number, cpu=0.25, spun=0.2) for number in range(4)]
    busy = [interval(number, cpu=0.24) for number in range(4)]
    use = gathered(Load(rate=1.0), 2, [lazy, busy], 1.0).generator
    assert use.processes == 2
    assert use.cpu == pytest.approx(0.98)
    assert use.busiest == pytest.approx(0.96)


def test_most_connections_at_once_are_those_of_all_processes() -> None:
    turn = gathered(Load(), 0, [[interval(0), interval(1)], [interval(0), interval(1)]], 0.5)
    assert turn.connections == 8


def test_nothing_measured_is_no_division() -> None:
    turn = gathered(Load(), 0, [[]], 0.0)
    assert (turn.requests, turn.throughput, turn.generator.busiest) == (0, 0.0, 0.0)


def test_what_was_under_way_at_the_end_is_said() -> None:
    turn = Turn("one", 1, Load())
    sum_ends(turn, [Done(unanswered=2, texts={"tls": "a"}), Done(unanswered=3, texts={"tls": "b"})])
    assert turn.unanswered == 5
    assert turn.texts == {"tls": "b"}


def test_who_refuses_for_a_second_after_having_answered_has_gone() -> None:
    served, refused = Moment(0, requests=9, connections=4), Moment(1, errors={"connect": 2})
    silent = Moment(1, connections=4, errors={"timeout": 1})
    assert deserted([served, *[refused] * 4])
    assert not deserted([served, *[refused] * 3])
    assert not deserted([refused] * 4)
    assert not deserted([served, *[refused] * 3, silent])
    assert not deserted([served, *[silent] * 9])
    assert not deserted([*[refused] * 9, served])
    assert not deserted([])
