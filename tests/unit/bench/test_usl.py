"""The law is found again in points that follow it, and its error in points that hardly do."""

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clusterd.bench import usl


def law(n: float, rate: float, contention: float, crosstalk: float) -> float:
    return rate * n / (1 + contention * (n - 1) + crosstalk * n * (n - 1))


@settings(max_examples=40)
@given(st.floats(1, 1e6), st.floats(0, 0.5), st.floats(0, 0.05), st.integers(4, 16))
def test_what_was_put_in_comes_out(
    rate: float, contention: float, crosstalk: float, most: int
) -> None:
    model = usl.fit([(n, law(n, rate, contention, crosstalk)) for n in range(1, most + 1)])
    assert model is not None
    assert model.rate == pytest.approx(rate, rel=1e-6)
    assert model.contention == pytest.approx(contention, abs=1e-6)
    assert model.crosstalk == pytest.approx(crosstalk, abs=1e-6)
    assert model.error is not None
    assert model.error < 1e-6
    for n in (1, most, 2 * most):
        assert model.at(n) == pytest.approx(law(n, rate, contention, crosstalk), rel=1e-4)


def test_the_peak_and_the_limit_of_a_law() -> None:
    model = usl.fit([(n, law(n, 1000, 0.05, 0.002)) for n in range(1, 9)])
    assert model is not None
    assert model.peak == pytest.approx(math.sqrt(0.95 / 0.002))
    assert model.limit == pytest.approx(model.at(model.peak))
    assert model.at(model.peak) > max(model.at(model.peak - 3), model.at(model.peak + 3))
    amdahl = usl.fit([(n, law(n, 1000, 0.05, 0)) for n in (1, 2, 4, 8)])
    assert amdahl is not None
    assert amdahl.peak == math.inf
    assert amdahl.limit == pytest.approx(20_000)
    linear = usl.fit([(n, 1000.0 * n) for n in (1, 2, 4)])
    assert linear is not None
    assert (linear.contention, linear.crosstalk, linear.limit) == (0, 0, math.inf)


def test_faster_than_linear_is_no_negative_contention() -> None:
    """It happens by noise, or by caches; the law knows no such thing, and its error says so."""
    model = usl.fit([(1, 1000.0), (2, 2200.0), (4, 4900.0)])
    assert model is not None
    assert (model.contention, model.crosstalk) == (0.0, 0.0)
    assert model.error is not None
    assert model.error > 0.05


def test_two_numbers_of_workers_say_nothing_of_crosstalk() -> None:
    model = usl.fit([(1, 1000.0), (2, 1900.0)])
    assert model is not None
    assert model.contention == pytest.approx(2 / 1.9 - 1)
    assert model.crosstalk == 0
    assert (model.error, model.band(4)) == (None, None)  # as many terms as points
    assert [model.at(1), model.at(2)] == pytest.approx([1000, 1900])


@pytest.mark.parametrize("points", [[], [(1, 5.0)], [(2, 5.0), (2, 6.0)], [(0, 1.0), (1, 0.0)]])
def test_fewer_than_two_numbers_of_workers_are_no_curve(points: list[tuple[int, float]]) -> None:
    assert usl.fit(points) is None


def test_the_band_holds_the_truth_about_as_often_as_it_says() -> None:
    """Points stray by 3 %, twice each of 1 to 6 workers; asked within and beyond them."""
    dice, held, asked = random.Random(5), 0, 0
    for _ in range(150):
        points = [
            (n, law(n, 1000, 0.06, 0.004) * dice.gauss(1, 0.03)) for n in range(1, 7) for _ in "ab"
        ]
        model = usl.fit(points)
        assert model is not None
        assert model.error == pytest.approx(0.03, abs=0.025)
        for n in (3, 6, 10):
            low, high = model.band(n) or (0.0, 0.0)
            asked += 1
            held += low <= law(n, 1000, 0.06, 0.004) <= high
    assert held / asked > 0.88


def test_beyond_what_was_measured_a_guess_is_worth_less() -> None:
    dice = random.Random(2)
    model = usl.fit([(n, law(n, 100, 0.1, 0.01) * dice.gauss(1, 0.02)) for n in (1, 2, 3, 4, 4)])
    assert model is not None
    assert model.measured == 4
    widths = [
        (high - low) / model.at(n) for n in (4, 8, 16) for low, high in [model.band(n) or (0, 0)]
    ]
    assert widths == sorted(widths)
    assert widths[0] < widths[2]
