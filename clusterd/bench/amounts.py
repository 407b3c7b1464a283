"""Figures for people: three digits or so, with their unit, the same wherever they are shown."""

from clusterd.core.units import show_bytes

NONE = "–"  # not known, or does not apply


def digits(value: float) -> str:
    """About three significant digits: `0.85`, `9.53`, `12.4`, `1,234`."""
    for limit, places in ((9.995, 2), (99.95, 1)):
        if abs(value) < limit:
            return f"{value:.{places}f}"
    return f"{value:,.0f}"


def latency(microseconds: float) -> str:
    """`85 µs`, `1.24 ms`, `12.4 ms`, `1.02 s`."""
    if microseconds < 999.5:
        return f"{microseconds:.0f} µs"
    if microseconds < 999_500:
        return f"{digits(microseconds / 1e3)} ms"
    return f"{digits(microseconds / 1e6)} s"


def cpu(microseconds: float | None) -> str:
    """CPU time of one request: `88 µs`, `8.31 µs`."""
    if microseconds is None:
        return NONE
    return f"{digits(microseconds)} µs" if microseconds < 999.5 else latency(microseconds)


def rate(value: float) -> str:
    """So many a second: `39,600/s`, `8.50/s`; whole numbers from 100 on."""
    return f"{digits(value)}/s"


def count(number: float) -> str:
    """`39,600`."""
    return f"{number:,.0f}"


def size(number: float | None) -> str:
    """Bytes: `512 B`, `41.5 MiB`."""
    return NONE if number is None else show_bytes(number)


def times(factor: float | None) -> str:
    """How many times as much: `3.60 ×`."""
    return NONE if factor is None else f"{digits(factor)} ×"


def percent(share: float | None) -> str:
    """A share of one: `97 %`, `0.03 %`; more digits where it is near none or all."""
    if share is None:
        return NONE
    value = share * 100
    if value in (0.0, 100.0):
        return f"{value:.0f} %"
    if abs(value) < 0.0095:
        return f"{value:.1g} %" if abs(value) >= 0.00095 else "< 0.001 %"
    if 0 < min(abs(value), 100 - abs(value)) < 0.95:
        return f"{value:.2f} %"
    return f"{value:.{1 if abs(value) < 9.95 else 0}f} %"


def seconds(value: float) -> str:
    """`0.25 s`, `10 s`."""
    return f"{value:g} s" if value == round(value, 2) else f"{digits(value)} s"


def plural(number: float, one: str, many: str = "") -> str:
    """`1 request`, `12,000 requests`."""
    return f"{count(number)} {one if number == 1 else many or one + 's'}"
