"""A histogram of microseconds with three significant digits, by the HdrHistogram package.

Values up to 2047 µs are exact, larger ones within 0.1 %; beyond an hour they are cut.
"""

from collections.abc import Mapping
from typing import Self

from hdrh.histogram import HdrHistogram

LOWEST, HIGHEST, DIGITS = 1, 3_600_000_000, 3


class Histogram:
    """How often each latency was seen; those of processes and intervals are added."""

    __slots__ = ("_hdr",)

    def __init__(self) -> None:
        self._hdr = HdrHistogram(LOWEST, HIGHEST, DIGITS)

    @classmethod
    def of(cls, counts: Mapping[int, int]) -> Self:
        """From a sparse one: microseconds to how often."""
        made = cls()
        made.record(counts)
        return made

    def record(self, counts: Mapping[int, int]) -> None:
        """Add a sparse histogram. 0 µs counts as 1, the lowest there is."""
        for value, count in counts.items():
            self._hdr.record_value(min(max(value, LOWEST), HIGHEST), count)

    def add(self, other: "Histogram") -> None:
        """Add what another one has seen."""
        self._hdr.add(other._hdr)

    @property
    def count(self) -> int:
        """How many values there are."""
        return int(self._hdr.get_total_count())

    @property
    def mean(self) -> float:
        """In µs; 0.0 where there is none."""
        return float(self._hdr.get_mean_value()) if self.count else 0.0

    @property
    def max(self) -> int:
        """The largest, in µs; 0 where there is none."""
        return int(self._hdr.get_max_value()) if self.count else 0

    def percentile(self, percent: float) -> int:
        """The value in µs that so many percent (0 to 100) do not exceed; 0 where there is none."""
        return int(self._hdr.get_value_at_percentile(percent)) if self.count else 0

    def counts(self) -> dict[int, int]:
        """Sparse: the lowest value of each bucket, in µs, to how often."""
        return {
            int(self._hdr.get_lowest_equivalent_value(item.value_iterated_to)): int(
                item.count_added_in_this_iter_step
            )
            for item in self._hdr.get_recorded_iterator()
        }

    def encode(self) -> str:
        """In the interchange form of HdrHistogram (V2, deflated, base64), which its tools read."""
        text: bytes = self._hdr.encode()
        return text.decode()

    @classmethod
    def decode(cls, text: str) -> Self:
        """The inverse; raises ValueError for what is no histogram."""
        made = cls()
        try:
            made._hdr.decode_and_add(text)
        except Exception as error:  # the package raises what its parts raise
            raise ValueError(f"no histogram: {error}") from error
        return made
