"""A warm-up ends where a rule says so, and never takes with it what a server did later."""

import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clusterd.bench import warmup
from clusterd.bench.histogram import Histogram
from clusterd.bench.results import Moment

STEADY = 2_500


def moments(requests: Sequence[int], medians: Sequence[int] | None = None) -> list[Moment]:
    """Intervals with so many answers, of such a latency."""
    latencies = medians or [1_000] * len(requests)
    return [
        Moment(number, requests=many, latency=Histogram.of({median: many} if many else {}))
        for number, (many, median) in enumerate(zip(requests, latencies, strict=True))
    ]


def noisy(length: int, seed: int = 1, usual: float = STEADY, share: float = 0.02) -> list[int]:
    dice = random.Random(seed)
    return [max(0, round(usual * dice.gauss(1, share))) for _ in range(length)]


def test_of_a_steady_server_nearly_nothing_is_cut() -> None:
    """MSER follows chance a little; it must not take more than a tenth for nothing."""
    for seed in range(30):
        assert warmup.cut(moments(noisy(40, seed))) <= 4, seed


@pytest.mark.parametrize("length", [1, 2, 3, 5, 8])
def test_a_slow_start_is_cut_as_long_as_it_was(length: int) -> None:
    slow = [round(STEADY * (0.2 + 0.6 * n / length)) for n in range(length)]
    assert warmup.cut(moments(slow + noisy(40 - length))) == pytest.approx(length, abs=1)


@pytest.mark.parametrize("length", [2, 4, 6])
def test_latency_alone_can_be_cold(length: int) -> None:
    """Of an open loop the throughput is given, and only latencies say that caches were empty."""
    medians = [8_000 // (n + 1) for n in range(length)] + noisy(40 - length, usual=500)
    assert warmup.cut(moments([STEADY] * 40, medians)) == pytest.approx(length, abs=1)


@pytest.mark.parametrize("start", [4, 8, 13, 16, 19])
@pytest.mark.parametrize("length", [1, 4])
def test_a_stall_is_no_warm_up(start: int, length: int) -> None:
    """Plain MSER would leave it out with all that was before, and p99 would know nothing of it."""
    for seed in range(10):
        answered = noisy(40, seed)
        answered[start : start + length] = [0] * length
        answered[start + length] *= 3  # what had to wait
        medians = [1_000] * 40
        medians[start + length] = 400_000
        assert warmup.cut(moments(answered, medians)) < start


def test_a_slow_start_is_cut_although_a_stall_follows() -> None:
    answered = [300, 900, 1_700, *noisy(37)]
    answered[12:16] = [0, 0, 0, 0]
    assert 2 <= warmup.cut(moments(answered)) <= 4


def test_a_mild_warm_up_is_cut_although_something_wild_follows() -> None:
    """400 ms once outweigh all of a warm-up, if they count for what they are."""
    medians = [1_900, 1_700, 1_500, *noisy(37, usual=1_000)]
    medians[25] = 400_000
    assert 2 <= warmup.cut(moments([STEADY] * 40, medians)) <= 4


def test_one_more_or_less_of_two_is_chance() -> None:
    assert warmup.cut(moments([1, 3] + [2] * 38)) == 0


def test_what_never_settles_is_cut_by_half_at_most_and_told() -> None:
    found = moments(noisy(26) + noisy(14, usual=2 * STEADY))
    assert warmup.cut(found) <= 20
    assert warmup.settled(found) is None
    assert warmup.settled(moments(noisy(40))) == 0


@given(
    st.lists(st.integers(0, 5_000), max_size=60),
    st.randoms(use_true_random=False),
)
def test_at_least_half_is_left_whatever_happened(requests: list[int], dice: random.Random) -> None:
    found = moments(requests, [dice.randrange(1, 100_000) for _ in requests])
    assert 0 <= warmup.cut(found) <= len(found) // 2


@pytest.mark.parametrize("rate", [1, 2, 5, 20])
def test_few_requests_vary_by_chance_and_that_is_no_warm_up(rate: int) -> None:
    """At some requests an interval half of them differ by more than a third."""
    dice, cuts = random.Random(3), []
    for _ in range(20):
        answered = [sum(dice.random() < rate / 100 for _ in range(100)) for _ in range(40)]
        cuts.append(warmup.cut(moments(answered, [dice.randrange(800, 1_200) for _ in answered])))
    assert sum(cuts) / len(cuts) <= 4


def test_of_next_to_no_intervals_nothing_is_cut() -> None:
    assert warmup.cut([]) == 0
    assert warmup.cut(moments([1, 2_000, 2_000])) == 0
    assert warmup.cut(moments([0] * 12)) == 0


@pytest.mark.parametrize("lived", [1, 2, 8, 19])
def test_a_server_that_died_was_no_warm_up(lived: int) -> None:
    """All that it answered would be cut off."""
    found = moments(noisy(lived) + [0] * (40 - lived))
    assert warmup.cut(found) == 0
    assert warmup.settled(found) is None
