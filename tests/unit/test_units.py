"""Amounts as people write and read them."""

import pytest

from clusterd.core.units import parse_bytes, parse_seconds, show_bytes, show_count, show_seconds


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30", 30), ("0.5", 0.5), ("500ms", 0.5), ("2m", 120), ("1 h", 3600), ("1D", 86400), ("0", 0)],
)
def test_seconds_are_read(text: str, seconds: float) -> None:
    assert parse_seconds(text) == seconds


@pytest.mark.parametrize(
    ("text", "size"), [("0", 0), ("8192", 8192), ("64KiB", 65536), ("1.5k", 1536), ("1 GB", 2**30)]
)
def test_sizes_are_read(text: str, size: int) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "s", "-1", "+1", "1e3", "inf", "nan", "1x", "1_0", "٣"])
def test_what_is_no_amount_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no amount"):
        parse_seconds(text)
    with pytest.raises(ValueError, match="is no amount"):
        parse_bytes(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0s"),
        (9.94, "9.9s"),
        (10, "10s"),
        (65, "1m05s"),
        (3599, "59m59s"),
        (7500, "2h05m"),
        (360000, "4d04h"),
    ],
)
def test_durations_are_shown_short(seconds: float, text: str) -> None:
    assert show_seconds(seconds) == text


def test_counts_and_sizes_are_shown_short() -> None:
    assert [show_count(n) for n in (0, 999, 1000, 12_345, 999_999, 4_100_000, 5e12)] == [
        "0", "999", "1.0k", "12.3k", "1000k", "4.1M", "5T",
    ]  # fmt: skip
    assert [show_bytes(n) for n in (0, 512, 8192, 1.5 * 2**30)] == [
        "0 B", "512 B", "8 KiB", "1.5 GiB",
    ]  # fmt: skip
