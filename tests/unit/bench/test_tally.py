"""What is noted is handed over once, and in histograms of three digits."""

import random

from clusterd.bench.histogram import Histogram
from clusterd.bench.tally import Tally, rounded


def test_an_interval_has_what_came_since_the_last_one() -> None:
    tally = Tally()
    tally.answered(200, 100, 1_500_999)
    tally.answered(503, 50, 999)
    tally.counted(404, 1)
    tally.failed("reset", 2, "by the peer")
    tally.late(2_000)
    tally.waited = 3

    first = tally.cut(7, connections=5, behind=4)
    second = tally.cut(8, connections=0, behind=0)

    assert (first.number, first.requests, first.bytes) == (7, 3, 151)
    assert first.latency == {1500: 1, 0: 1}
    assert first.lag == {2: 1}
    assert first.errors == {"status 503": 1, "status 404": 1, "reset": 2}
    assert (first.connections, first.behind, first.waited) == (5, 4, 3)
    assert (second.requests, second.bytes, second.waited) == (0, 0, 0)
    assert (second.errors, second.latency, second.lag) == ({}, {}, {})
    assert tally.texts == {"reset": "by the peer"}


def test_what_was_before_the_start_does_not_count() -> None:
    tally = Tally()
    tally.failed("connect", 1, "refused")
    tally.sent += 1

    tally.begin()

    assert tally.cut(0, connections=0, behind=0).errors == {}
    assert (tally.sent, tally.texts) == (0, {})


def test_an_interval_has_the_time_that_it_took_the_process() -> None:
    tally = Tally()
    while not (cpu := tally.cut(0, connections=0, behind=0).cpu):
        sum(range(100_000))

    assert cpu < 60


def test_long_latencies_lose_nothing_that_the_histogram_would_have_kept() -> None:
    draw = random.Random(1)
    values = [int(2 ** draw.uniform(11, 31)) for _ in range(500)]
    exact, noted = Histogram(), Histogram()
    tally = Tally()
    for value in values:
        exact.record({value: 1})
        tally.answered(200, 0, value * 1000)
    noted.record(tally.cut(0, connections=0, behind=0).latency)

    assert noted.counts() == exact.counts()
    assert rounded(2048) == 2048
    assert rounded(4099) == 4096
