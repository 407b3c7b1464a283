"""Identifiers of jobs: UUIDs of version 7 (RFC 9562 section 5.7), as 32 hexadecimal digits."""

import os

_last = [0]  # the time in the latest identifier of this process, in microseconds


def new_id(now: int) -> str:
    """Return an identifier for a job that is made now (microseconds since the epoch).

    Identifiers of one process grow, also within a microsecond: each takes the next one.
    """
    now = _last[0] = max(now, _last[0] + 1)
    milliseconds, rest = divmod(now, 1000)
    # RFC 9562 section 6.2, method 3: the 12 bits after the milliseconds are the fraction.
    high = (milliseconds & (1 << 48) - 1) << 16 | 0x7000 | rest * 4096 // 1000
    low = int.from_bytes(os.urandom(8), "big") & (1 << 62) - 1 | 1 << 63
    return f"{high:016x}{low:016x}"
