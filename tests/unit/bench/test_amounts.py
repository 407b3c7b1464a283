"""Figures as people read them: no digit that means nothing, no unit left out."""

import pytest

from clusterd.bench import amounts


@pytest.mark.parametrize(
    ("microseconds", "shown"),
    [
        (0, "0 µs"),
        (85, "85 µs"),
        (999.4, "999 µs"),
        (999.6, "1.00 ms"),
        (1_240, "1.24 ms"),
        (9_996, "10.0 ms"),
        (12_410, "12.4 ms"),
        (124_100, "124 ms"),
        (999_600, "1.00 s"),
        (1_020_000, "1.02 s"),
        (3_600_000_000, "3,600 s"),
    ],
)
def test_a_latency_is_shown_in_the_unit_that_fits(microseconds: float, shown: str) -> None:
    assert amounts.latency(microseconds) == shown


@pytest.mark.parametrize(
    ("share", "shown"),
    [
        (0, "0 %"),
        (1, "100 %"),
        (0.97, "97 %"),
        (0.999, "99.90 %"),
        (0.055, "5.5 %"),
        (0.0003, "0.03 %"),
        (0.00004, "0.004 %"),
        (0.000001, "< 0.001 %"),
        (1.5, "150 %"),
        (None, "–"),
    ],
)
def test_a_share_has_more_digits_near_none_and_near_all(share: float | None, shown: str) -> None:
    assert amounts.percent(share) == shown


def test_the_others() -> None:
    assert amounts.rate(39_600.4) == "39,600/s"
    assert amounts.rate(8.5) == "8.50/s"
    assert amounts.count(1_234_567) == "1,234,567"
    assert amounts.cpu(8.314) == "8.31 µs"
    assert amounts.cpu(88.2) == "88.2 µs"
    assert amounts.cpu(5_000) == "5.00 ms"
    assert amounts.cpu(None) == "–"
    assert amounts.times(3.6) == "3.60 ×"
    assert amounts.times(None) == "–"
    assert amounts.size(43_515_904) == "41.5 MiB"
    assert amounts.seconds(10.0) == "10 s"
    assert amounts.seconds(2.3333) == "2.33 s"
    assert amounts.plural(1, "error") == "1 error"
    assert amounts.plural(12_000, "reply", "replies") == "12,000 replies"
