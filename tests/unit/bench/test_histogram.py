"""Percentiles are right within three digits, whatever was seen, and by however many."""

import math
import random
from collections import Counter
from collections.abc import Callable

import pytest
from hdrh.histogram import HdrHistogram

from clusterd.bench.histogram import HIGHEST, Histogram

PERCENTS = (0.0, 1.0, 50.0, 75.0, 90.0, 99.0, 99.9, 99.99, 100.0)
SHAPES: dict[str, Callable[[random.Random], float]] = {
    "even": lambda dice: dice.uniform(1, 50_000),
    "small": lambda dice: dice.uniform(1, 2_000),
    "with a long tail": lambda dice: dice.lognormvariate(7, 2),
    "of two humps": lambda dice: dice.gauss(*dice.choice(((500, 20), (1_000_000, 5_000)))),
    "always the same": lambda dice: dice.choice((123_456,)),
}


def seen(shape: str, count: int = 5_000) -> list[int]:
    dice = random.Random(shape)
    return sorted(min(max(1, int(SHAPES[shape](dice))), HIGHEST) for _ in range(count))


def at(values: list[int], percent: float) -> int:
    """The smallest value that so many percent do not exceed."""
    return values[max(0, math.ceil(len(values) * percent / 100) - 1)]


def test_no_percentile_is_told_too_low() -> None:
    """99.9 % of 600 are 600 of them, not 599."""
    histogram = Histogram.of({10: 599, 1000: 1})
    assert (histogram.percentile(99.8), histogram.percentile(99.9)) == (10, 1000)


def near(value: int) -> object:
    return pytest.approx(value, rel=0.001, abs=0.5)


@pytest.mark.parametrize("shape", SHAPES)
def test_percentiles_are_right_within_its_precision(shape: str) -> None:
    values = seen(shape)
    histogram = Histogram.of(Counter(values))
    assert histogram.count == len(values)
    assert histogram.max == near(values[-1])
    assert histogram.mean == pytest.approx(sum(values) / len(values), rel=0.001)
    for percent in PERCENTS:
        assert histogram.percentile(percent) == near(at(values, percent)), percent


@pytest.mark.parametrize("shape", SHAPES)
def test_parts_add_up_to_the_whole(shape: str) -> None:
    """However requests are dealt to intervals and processes, the sum is what one would have."""
    values, whole = seen(shape), Histogram()
    for first in range(7):
        part = Histogram()
        part.record(Counter(values[first::7]))
        whole.add(part)
    assert whole.counts() == Histogram.of(Counter(values)).counts()
    assert whole.count == sum(whole.counts().values())


def test_percentiles_of_parts_are_not_averaged() -> None:
    """One process that is slow in all it does, beside one that is fast: p50 is no mean of both."""
    whole = Histogram.of({100: 900})
    whole.add(Histogram.of({10_000: 100}))
    assert (whole.percentile(50), whole.percentile(99)) == (100, near(10_000))


@pytest.mark.parametrize("shape", SHAPES)
def test_it_comes_back_as_it_was_stored(shape: str) -> None:
    histogram = Histogram.of(Counter(seen(shape)))
    again = Histogram.decode(histogram.encode())
    assert again.counts() == histogram.counts()
    assert [again.percentile(one) for one in PERCENTS] == [
        histogram.percentile(one) for one in PERCENTS
    ]


def test_other_tools_read_it() -> None:
    text = Histogram.of({5: 3, 70_000: 1}).encode()
    other = HdrHistogram.decode(text)
    assert (other.get_total_count(), other.get_value_at_percentile(50)) == (4, 5)


@pytest.mark.parametrize("text", ["", "x", "HISTFAAAAA==", "eyJhIjogMX0="])
def test_what_is_no_histogram_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no histogram"):
        Histogram.decode(text)


def test_an_empty_one_has_no_figures_and_the_ends_of_the_range_hold() -> None:
    empty = Histogram()
    assert (empty.count, empty.mean, empty.max, empty.percentile(99)) == (0, 0.0, 0, 0)
    ends = Histogram.of({0: 1, -5: 1, HIGHEST * 10: 1})
    assert (ends.count, ends.percentile(1), ends.max) == (3, 1, near(HIGHEST))
