"""Processes that are not ours to wait for."""

import os
import select
from collections.abc import Iterable
from contextlib import suppress


def left(pids: Iterable[int], within: float = 10.0) -> list[int]:
    """Those that are still there after so many seconds; comes back as soon as there is none."""
    return [pid for pid in pids if not _gone(pid, within)]


def _gone(pid: int, within: float) -> bool:
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        poll = select.poll()  # a pidfd is readable once its process has ended: pidfd_open(2)
        poll.register(fd, select.POLLIN)
        return bool(poll.poll(within * 1000))
    finally:
        with suppress(OSError):
            os.close(fd)
