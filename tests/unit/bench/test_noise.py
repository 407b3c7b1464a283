"""What turns say about chance: never more than they know, and right as often as it claims."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clusterd.bench import noise
from clusterd.bench.noise import Ratio, Spread

# From the table that every statistics book has at its end.
TABLE = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 10: 2.228, 30: 2.042, 1e6: 1.960}
figures = st.lists(st.floats(1, 1e6), min_size=2, max_size=8)


@pytest.mark.parametrize("freedom", TABLE)
def test_students_quantiles_are_those_of_the_tables(freedom: float) -> None:
    assert noise.student(freedom) == pytest.approx(TABLE[freedom], abs=0.0006)


@settings(max_examples=25)
@given(st.floats(0.3, 500), st.floats(0.3, 500))
def test_fewer_turns_never_make_an_interval_narrower(one: float, other: float) -> None:
    fewer, more = sorted((one, other))
    assert noise.student(fewer) >= noise.student(more) - 1e-9


def test_a_difference_of_means_by_the_book() -> None:
    """Welch's example with unequal variances, worked out by hand: t = 2.4469 for 5.9 degrees."""
    middle, low, high = noise.difference([20.0, 22, 19, 20], [28.0, 30, 25, 31, 26]) or (0, 0, 0)
    assert middle == pytest.approx(-7.75)
    error = (1.5833333 / 4 + 6.5 / 5) ** 0.5
    assert (high - low) / 2 / error == pytest.approx(noise.student(6.0), rel=0.01)
    assert noise.difference([1.0], [2.0, 3.0]) is None


@settings(max_examples=30)
@given(figures, figures)
def test_the_inverse_ratio_has_the_inverse_interval(ours: list[float], theirs: list[float]) -> None:
    one, other = noise.ratio(ours, theirs), noise.ratio(theirs, ours)
    assert one is not None
    assert other is not None
    assert one.low is not None
    assert other.high is not None
    assert one.low <= one.value * (1 + 1e-9)
    assert one.value * other.value == pytest.approx(1)
    if one.low > 1e-290:
        assert one.low * other.high == pytest.approx(1)
    assert one.told == other.told


def test_an_interval_holds_the_truth_as_often_as_it_says() -> None:
    """19 of 20 times, whatever it was: also of two turns, where it is wide for that."""
    dice = random.Random(7)
    for turns in (2, 4):
        held = 0
        for _ in range(150):
            ours = [1000 * 1.5 * dice.lognormvariate(0, 0.03) for _ in range(turns)]
            theirs = [1000 * dice.lognormvariate(0, 0.06) for _ in range(turns)]
            found = noise.ratio(ours, theirs)
            assert found is not None
            assert found.low is not None
            assert found.high is not None
            held += found.low <= 1.5 <= found.high
        assert 0.91 <= held / 150 <= 0.99, turns


def test_one_turn_gives_a_ratio_and_no_interval() -> None:
    found = noise.ratio([200.0], [100.0, 100.0])
    assert found is not None
    assert found == Ratio(found.value, None, None, 1)
    assert found.value == pytest.approx(2)
    assert not Ratio(2.0).told


def test_what_lies_on_one_side_of_one_is_told() -> None:
    assert Ratio(1.1, 1.01, 1.2, 3).told
    assert Ratio(0.9, 0.8, 0.99, 3).told
    assert not Ratio(1.1, 0.9, 1.3, 3).told


@pytest.mark.parametrize(("ours", "theirs"), [([], [1.0]), ([0.0, 1.0], [1.0]), ([1.0], [-1.0])])
def test_without_figures_above_zero_there_is_no_ratio(
    ours: list[float], theirs: list[float]
) -> None:
    assert noise.ratio(ours, theirs) is None


@settings(max_examples=30)
@given(st.lists(st.floats(1e-300, 1e300), min_size=2, max_size=3))
def test_the_wildest_turns_are_borne(values: list[float]) -> None:
    found = noise.ratio(values, values[::-1])
    assert found is not None
    assert found.value == pytest.approx(1)


def test_the_spread_of_turns() -> None:
    spread = Spread((110.0, 90.0, 100.0))
    assert (spread.median, spread.low, spread.high, spread.count) == (100, 90, 110, 3)
    assert spread.relative == pytest.approx(0.2)
    assert Spread((0.0, 0.0)).relative == 0
    assert noise.spread([None, 3.0]) == Spread((3.0,))
    assert noise.spread([None]) is None
