"""The clock of stores."""

import time

MICROSECONDS = 1_000_000  # of a second


def now() -> int:
    """Return microseconds since the epoch."""
    return time.time_ns() // 1000
