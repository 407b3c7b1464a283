"""Durations and sizes as people write them: `500ms`, `2m`, `64KiB`."""

import re
from collections.abc import Mapping

SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
KIB, MIB, GIB = 2**10, 2**20, 2**30
BYTES = {
    "b": 1,
    "k": KIB,
    "kb": KIB,
    "kib": KIB,
    "m": MIB,
    "mb": MIB,
    "mib": MIB,
    "g": GIB,
    "gb": GIB,
    "gib": GIB,
}
NUMBER = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]*)", re.ASCII)


def parse_seconds(text: str) -> float:
    """Seconds from `30`, `0.5`, `500ms`, `2m` or `1h`; raises ValueError."""
    number, worth = _split(text, SECONDS, "s")
    return number * worth


def parse_bytes(text: str) -> int:
    """Bytes from `8192`, `64KiB` or `16M` (all powers of 1024); raises ValueError."""
    number, worth = _split(text, BYTES, "b")
    return int(number * worth)


def show_seconds(seconds: float) -> str:
    """A duration for people: `0.4s`, `12s`, `3m10s`, `2h05m`, `4d03h`."""
    if seconds < 10:
        return f"{seconds:.1f}s"
    whole = int(seconds)
    for size, unit, part, low in ((86400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s")):
        if whole >= size:
            return f"{whole // size}{unit}{whole % size // part:02d}{low}"
    return f"{whole}s"


def show_count(number: float) -> str:
    """A count in at most five characters: `950`, `12.3k`, `4.1M`."""
    for limit, unit in ((1e3, ""), (1e6, "k"), (1e9, "M"), (1e12, "G")):
        if number < limit:
            value = number * 1e3 / limit
            return f"{value:.0f}{unit}" if not unit or value >= 100 else f"{value:.1f}{unit}"
    return f"{number / 1e12:.0f}T"


def show_bytes(number: float) -> str:
    """A size for people: `512 B`, `8 KiB`, `1.5 GiB`."""
    for unit in ("B", "KiB", "MiB"):
        if number < 1024:
            return f"{number:.1f}".removesuffix(".0") + f" {unit}"
        number /= 1024
    return f"{number:.1f}".removesuffix(".0") + " GiB"


def _split(text: str, units: Mapping[str, float], bare: str) -> tuple[float, float]:
    """The number, and how much its unit is worth."""
    match = NUMBER.fullmatch(text.strip().lower())
    if match is None or (match[2] or bare) not in units:
        raise ValueError(f"{text!r} is no amount")
    return float(match[1]), units[match[2] or bare]
