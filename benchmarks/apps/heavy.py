"""The same app behind an import that costs 1 s of CPU and 80 MB, as real ones do."""

import time

from plain import app  # type: ignore[import-not-found]

__all__ = ["app"]

CPU_SECONDS = 1.0
MEGABYTES = 80

_until = time.thread_time() + CPU_SECONDS
# Bytes objects of a page each, written once and never again: like a program's code and tables.
ballast = [bytes([number % 255 + 1]) * 4063 for number in range(MEGABYTES * 256)]
while time.thread_time() < _until:
    sum(range(1000))
