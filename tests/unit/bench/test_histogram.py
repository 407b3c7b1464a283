"""Percentiles are right within three digits, whatever was seen, and by however many."""

import base64
import math
import random
import zlib
from collections import Counter
from collections.abc import Callable, Iterator

import pytest
from hdrh.histogram import HdrHistogram
from hypothesis import given, settings
from hypothesis import strategies as st

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


latencies = st.dictionaries(st.integers(1, HIGHEST), st.integers(1, 10**12), max_size=30)


def package(counts: dict[int, int]) -> HdrHistogram:
    """The package's own, which ours must agree with."""
    made = HdrHistogram(1, HIGHEST, 3)
    for value, count in counts.items():
        made.record_value(value, count)
    return made


@settings(max_examples=40)
@given(st.integers(1, HIGHEST))
def test_a_value_falls_into_the_bucket_that_the_package_has_for_it(value: int) -> None:
    theirs = package({value: 1})
    histogram = Histogram.of({value: 1})
    assert histogram.counts() == {theirs.get_lowest_equivalent_value(value): 1}
    assert histogram.max == theirs.get_highest_equivalent_value(value)
    assert histogram.max - value <= value / 1000


@settings(max_examples=40)
@given(latencies, latencies)
def test_adding_is_what_recording_both_would_have_been(
    one: dict[int, int], other: dict[int, int]
) -> None:
    whole, both = Histogram.of(one), Histogram.of(one)
    whole.add(Histogram.of(other))
    both.record(other)
    assert whole.counts() == both.counts()
    assert whole.count == sum(one.values()) + sum(other.values())
    again = Histogram.of(other)
    again.add(Histogram.of(one))
    assert again.counts() == whole.counts()


def test_what_is_added_is_not_shared() -> None:
    one, other = Histogram.of({5: 1}), Histogram.of({5: 1})
    one.add(other)
    one.record({5: 1})
    assert (one.count, other.count) == (3, 1)


@settings(max_examples=40)
@given(latencies.filter(bool), st.lists(st.floats(0, 100), min_size=1, max_size=8))
def test_percentiles_are_those_that_so_many_do_not_exceed(
    counts: dict[int, int], percents: list[float]
) -> None:
    histogram = Histogram.of(counts)
    found = histogram.percentiles(percents)
    assert found == [histogram.percentile(percent) for percent in percents]
    for percent, value in zip(percents, found, strict=True):
        upto = sum(count for one, count in counts.items() if one <= value)
        assert upto >= histogram.count * percent / 100 - 1e-6 - histogram.count * 1e-12
    assert histogram.percentile(100) == histogram.max


@settings(max_examples=40)
@given(latencies)
def test_any_comes_back_as_it_was_stored(counts: dict[int, int]) -> None:
    histogram = Histogram.of(counts)
    assert Histogram.decode(histogram.encode()).counts() == histogram.counts()
    theirs = HdrHistogram.decode(histogram.encode())
    assert theirs.get_total_count() == histogram.count


def varints(data: bytes) -> Iterator[int]:
    """ZigZag LEB128 as the format's description has it: the ninth byte has eight bits."""
    at = 0
    while at < len(data):
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte if shift == 56 else byte & 0x7F) << shift
            shift += 7
            if not byte & 0x80 or shift > 56:
                break
        yield (value >> 1) ^ -(value & 1)


def test_the_stored_form_is_the_one_that_is_described() -> None:
    """Read here without the package: cookies, lengths, settings, then counts and runs of zeros."""
    raw = base64.b64decode(Histogram.of({3: 2, 2048: 7, 5000: 300}).encode())
    assert (raw[:4].hex(), int.from_bytes(raw[4:8], "big")) == ("1c849314", len(raw) - 8)
    body = zlib.decompress(raw[8:])
    assert body[:4].hex() == "1c849313"
    length, offset, digits = (int.from_bytes(body[at : at + 4], "big") for at in (4, 8, 12))
    assert (length, offset, digits) == (len(body) - 40, 0, 3)
    assert int.from_bytes(body[16:24], "big") == 1
    assert int.from_bytes(body[24:32], "big") == HIGHEST
    index, found = 0, {}
    for number in varints(body[40:]):
        if number < 0:
            index -= number
        else:
            found[index] = number
            index += 1
    # Up to 2047 an index is its value; then 1,024 buckets of 2 µs, then as many of 4.
    assert found == {3: 2, 2048: 7, 2048 + 1024 + (5000 - 4096) // 4: 300}


@pytest.mark.parametrize(
    ("digits", "lowest", "highest"), [(2, 1, 10**7), (5, 1, 10**8), (3, 1000, 10**9)]
)
def test_what_other_tools_stored_with_other_settings_is_read(
    digits: int, lowest: int, highest: int
) -> None:
    other = HdrHistogram(lowest, highest, digits)
    for value in (2_000, 50_000, 1_234_567):
        other.record_value(value, 10)
    read = Histogram.decode(other.encode().decode())
    assert read.count == 30
    rough = max(10.0**-digits, 0.001)
    for percent, value in ((33, 2_000), (66, 50_000), (99, 1_234_567)):
        assert read.percentile(percent) == pytest.approx(value, rel=rough, abs=lowest)


def test_a_coarse_one_counts_as_the_middle_of_its_buckets() -> None:
    """Two digits are buckets of 0.8 %: nothing is off by more than half of one."""
    for value in range(1_000, 60_000, 997):
        other = HdrHistogram(1, 10**6, 2)
        other.record_value(value)
        found = Histogram.decode(other.encode().decode()).max
        assert found == pytest.approx(value, rel=0.005)


def stored(digits: int, lowest: int, highest: int) -> str:
    """A histogram with nothing in it but these settings."""
    body = bytes.fromhex("1c849313") + (0).to_bytes(4, "big") * 2 + digits.to_bytes(4, "big")
    body += lowest.to_bytes(8, "big") + highest.to_bytes(8, "big") + bytes(8)
    packed = zlib.compress(body)
    head = bytes.fromhex("1c849314") + len(packed).to_bytes(4, "big")
    return base64.b64encode(head + packed).decode()


@pytest.mark.parametrize(
    ("digits", "lowest", "highest"),
    [(0, 1, 10**6), (9, 1, 10**6), (3, 0, 10**6), (3, 10, 5), (3, 1, 2**64 - 1), (5, 1, 2**60)],
)
def test_a_stored_one_that_would_fill_the_memory_is_refused(
    digits: int, lowest: int, highest: int
) -> None:
    with pytest.raises(ValueError, match="no histogram"):
        Histogram.decode(stored(digits, lowest, highest))


def test_one_with_sane_settings_and_nothing_in_it_is_empty() -> None:
    assert Histogram.decode(stored(3, 1, 10**6)).count == 0


@settings(max_examples=40)
@given(st.data())
def test_a_damaged_one_is_refused_or_read_and_never_worse(data: st.DataObject) -> None:
    raw = bytearray(base64.b64decode(Histogram.of({5: 3, 70_000: 1, 9: 10**6}).encode()))
    body = bytearray(zlib.decompress(raw[8:]))
    at = data.draw(st.integers(0, len(body) - 1))
    body[at] = data.draw(st.integers(0, 255))
    packed = zlib.compress(bytes(body))
    text = base64.b64encode(bytes(raw[:4]) + len(packed).to_bytes(4, "big") + packed).decode()
    try:
        histogram = Histogram.decode(text)
    except ValueError:
        return
    assert histogram.count == sum(histogram.counts().values())


def test_a_moment_costs_what_is_in_it() -> None:
    """A report has thousands of them, and the package's own takes 190 kB each."""
    assert len(Histogram.of({5: 1, 6: 2})._counts) == 2
