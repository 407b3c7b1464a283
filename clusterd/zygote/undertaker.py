"""What a zygote does when the master is gone: nothing of ours outlives it.

Workers notice by themselves (EOF on their channels), drain and leave; this is for those that
cannot: stuck in a loop, in C, or stopped.
"""

import contextlib
import fcntl
import os
import select
import signal
import time

from clusterd.ipc.scoreboard import ROWS, USED, Cell, Scoreboard
from clusterd.kernel.descent import Identity, ancestor_of, everything
from clusterd.kernel.own_files import SAFELY
from clusterd.kernel.process import (
    is_running,
    kill_pidfd,
    open_pidfd,
    signal_group,
    start_ticks,
)

GRACE = 2.0  # seconds from SIGTERM to SIGKILL, for what the application has started
EXITING = 5.0  # seconds that the kernel may take to close what a killed master had open


def bury(board: Scoreboard, sockets: list[tuple[str, int]], patience: float, master: int) -> None:
    """Unlink the socket files that are still ours; after `patience` seconds kill who is left.

    `master` is a pidfd: EOF on our channel comes while the dying master's other descriptors, the
    locks of these files among them, are still being closed.
    """
    deadline = time.monotonic() + patience
    ended_of([master], EXITING)
    for path, inode in sockets:
        unlink_ours(path, inode)
    left = stragglers(board)
    while left and (remaining := deadline - time.monotonic()) > 0:
        for fd in ended_of(left, remaining):
            left.remove(fd)
            os.close(fd)
    programs: list[int] = []
    if left:
        left += stragglers(board)  # who was just being born when we looked first
        programs = [row[Cell.COMMAND] for row in rows_of(board)]
    for fd in left:
        kill_pidfd(fd)
        os.close(fd)
    for leader in filter(None, programs):  # what a keeper did not end
        signal_group(leader, signal.SIGKILL)
    end_orphans({(row[Cell.PID], row[Cell.START_TICKS]) for row in rows_of(board)})


def end_orphans(workers: set[Identity]) -> None:
    """End what workers that are gone have started, and what our own import has, but for those that
    have changed their session. Nobody gave them to us: init has them, or who stands in for it."""
    left = _orphans(workers)
    for fd in left:
        with contextlib.suppress(OSError):
            signal.pidfd_send_signal(fd, signal.SIGTERM)
    deadline = time.monotonic() + GRACE
    while left and (remaining := deadline - time.monotonic()) > 0:
        for fd in ended_of(left, remaining):
            left.remove(fd)
            os.close(fd)
    for fd in [*left, *_orphans(workers)]:
        kill_pidfd(fd)
        os.close(fd)


def _orphans(workers: set[Identity]) -> list[int]:
    """A pidfd for each. Processes are found by the mark that all descendants have."""
    own = os.getpid()
    ours = (own, start_ticks(own))
    found: list[int] = []
    for pid in everything():
        ancestor = ancestor_of(pid)
        if ancestor is None or ancestor[0] == pid or pid == own:
            continue
        if ancestor != ours and (ancestor not in workers or is_running(*ancestor)):
            continue
        with contextlib.suppress(OSError):
            ticks = start_ticks(pid)
            if os.getsid(pid) == os.getsid(0) and ancestor_of(pid) == ancestor:
                fd = open_pidfd(pid, ticks)
                if fd is not None:
                    found.append(fd)
    return found


def ended_of(pidfds: list[int], seconds: float) -> list[int]:
    """Those whose process has ended: their pidfd is readable then (pidfd_open(2))."""
    poll = select.poll()
    for fd in pidfds:
        poll.register(fd, select.POLLIN)
    return [fd for fd, _ in poll.poll(seconds * 1000)]


def stragglers(board: Scoreboard) -> list[int]:
    """A pidfd for every worker of every generation that is still there."""
    found = (open_pidfd(row[Cell.PID], row[Cell.START_TICKS]) for row in rows_of(board))
    return [fd for fd in found if fd is not None]


def rows_of(board: Scoreboard) -> list[memoryview]:
    """The rows in use."""
    return [board.row(number) for number in range(min(board.header[USED], ROWS))]


def unlink_ours(path: str, inode: int) -> None:
    """Remove a socket file and its lock, unless another instance took the place meanwhile.

    The lock file beside it is the truth: who holds its lock owns the path. The check and the
    removal happen under it, so that a successor's file is never removed.
    """
    with contextlib.suppress(OSError):
        lock = os.open(f"{path}.lock", os.O_RDWR | SAFELY)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.stat(path).st_ino == inode:
                os.unlink(path)
                os.unlink(f"{path}.lock")
        finally:
            os.close(lock)
