"""A histogram of microseconds with three significant digits, as HdrHistogram has them.

Values up to 2047 µs are exact, larger ones within 0.1 %; beyond an hour they are cut. What is in it
is kept sparse: the package's own holds a counter for each value there could be, 190 kB of them, and
a report has thousands of histograms. Buckets are the package's, and so is the stored form.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Self

from hdrh.codec import HdrHistogramEncoder
from hdrh.histogram import HdrHistogram

LOWEST, HIGHEST, DIGITS = 1, 3_600_000_000, 3
_EXACT_BITS = 11  # values of so many bits have a bucket each: the fewest that tell 3 digits apart
_EXACT = 1 << _EXACT_BITS
_DIGITS_READ = range(1, 6)  # that a histogram of others may have
_HIGHEST_READ = 1 << 53  # of others: the package makes a counter for each bucket up to there


class Histogram:
    """How often each latency was seen; those of processes and intervals are added."""

    __slots__ = ("_counts",)

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}  # by the lowest value of the bucket

    @classmethod
    def of(cls, counts: Mapping[int, int]) -> Self:
        """From a sparse one: microseconds to how often."""
        made = cls()
        made.record(counts)
        return made

    def record(self, counts: Mapping[int, int]) -> None:
        """Add a sparse histogram. 0 µs counts as 1, the lowest there is."""
        own = self._counts
        for value, count in counts.items():
            if count > 0:
                # Most are exact, and this is done while the server is measured beside us.
                if not LOWEST <= value < _EXACT:
                    value = _lowest(min(max(value, LOWEST), HIGHEST))
                own[value] = own.get(value, 0) + count

    def add(self, other: "Histogram") -> None:
        """Add what another one has seen."""
        own = self._counts
        for low, count in other._counts.items():
            own[low] = own.get(low, 0) + count

    @property
    def count(self) -> int:
        """How many values there are."""
        return sum(self._counts.values())

    @property
    def mean(self) -> float:
        """In µs; 0.0 where there is none. Each value counts as the middle of its bucket."""
        total = sum((low + _highest(low)) * count for low, count in self._counts.items())
        return total / 2 / self.count if self._counts else 0.0

    @property
    def max(self) -> int:
        """The largest, in µs, as the end of its bucket; 0 where there is none."""
        return _highest(max(self._counts)) if self._counts else 0

    def percentile(self, percent: float) -> int:
        """The value in µs that so many percent (0 to 100) do not exceed; 0 where there is none.

        As HdrHistogram has it: the end of the bucket, so that the promise holds for it.
        """
        return self.percentiles((percent,))[0]

    def percentiles(self, percents: Iterable[float]) -> list[int]:
        """Several at once, in the order asked for, which is quicker than one by one."""
        total = self.count
        return self.ranked([rank(total, percent) for percent in percents])

    def ranked(self, ranks: Sequence[int]) -> list[int]:
        """The values with these places, from 1, in ascending order; the last beyond the end."""
        found = [0] * len(ranks)
        values, upto, low = sorted(self._counts), 0, 0
        if not values:
            return found
        following = iter(values)
        for wanted, place in sorted((wanted, place) for place, wanted in enumerate(ranks)):
            while upto < wanted and low != values[-1]:
                low = next(following)
                upto += self._counts[low]
            found[place] = _highest(low)
        return found

    def counts(self) -> dict[int, int]:
        """Sparse and ascending: the lowest value of each bucket, in µs, to how often."""
        return dict(sorted(self._counts.items()))

    def encode(self) -> str:
        """In the interchange form of HdrHistogram (V2, deflated, base64), which its tools read."""
        hdr = HdrHistogram(LOWEST, HIGHEST, DIGITS)
        for low, count in self._counts.items():
            hdr.record_value(low, count)
        text: bytes = hdr.encode()
        return text.decode()

    @classmethod
    def decode(cls, text: str) -> Self:
        """The inverse; raises ValueError for what is no histogram.

        One that another tool made may have other digits and another range, and is taken as µs.
        """
        try:
            hdr = _decoded(text)
            end = hdr.get_counts_array_index(hdr.max_value) + 1 if hdr.total_count else 0
            items = [
                (int(hdr.get_value_from_index(index)), int(count))
                for index, count in enumerate(hdr.encoder.payload.counts[:end])
                if count
            ]
        except Exception as error:  # the package raises what its parts raise
            raise ValueError(f"no histogram: {error}") from error
        if any(count < 0 for _, count in items):
            raise ValueError("no histogram: it counts less than nothing")
        ours = (hdr.significant_figures, hdr.unit_magnitude) == (DIGITS, 0)
        made = cls()
        # A coarser bucket counts as its middle, so that figures are off by half of it at most.
        middle = (lambda low: low) if ours else hdr._hdr_median_equiv_value
        for low, count in items:
            made.record({int(middle(low)): count})
        return made


def rank(count: int, percent: float) -> int:
    """Which of so many values, in order and from 1, is a percentile.

    Up, never to the nearest: p99.9 of 600 is the 600th, since the 599th is below 99.9 % of them.
    Rounded first to what no percentage means, for 99.9 is not quite 99.9 in binary.
    """
    return max(1, math.ceil(round(count * percent / 100, 6)))


def _lowest(value: int) -> int:
    """The lowest value of the bucket that a value falls into."""
    shift = max(0, value.bit_length() - _EXACT_BITS)
    return value >> shift << shift


def _highest(low: int) -> int:
    """The highest value of the bucket that begins there."""
    return low + (1 << max(0, low.bit_length() - _EXACT_BITS)) - 1


def _decoded(text: str) -> HdrHistogram:
    """By the package, once it is sure that it will not fill the memory with counters."""
    payload = HdrHistogramEncoder.decode(text).payload
    if payload.significant_figures not in _DIGITS_READ:
        raise ValueError(f"{payload.significant_figures} significant digits")
    lowest, highest = payload.lowest_trackable_value, payload.highest_trackable_value
    if not 1 <= lowest < highest <= _HIGHEST_READ:
        raise ValueError(f"its range is from {lowest} to {highest}")
    return HdrHistogram.decode(text)
