"""What a zygote does when the master is gone: nothing of ours outlives it.

Workers notice by themselves (EOF on their channels), drain and leave; this is for those that
cannot: stuck in a loop, in C, or stopped.
"""

import contextlib
import fcntl
import os
import select
import time

from clusterd.ipc.scoreboard import ROWS, USED, Cell, Scoreboard
from clusterd.kernel.process import kill_pidfd, open_pidfd


def bury(board: Scoreboard, sockets: list[tuple[str, int]], patience: float) -> None:
    """Unlink the socket files that are still ours; after `patience` seconds kill who is left."""
    left = stragglers(board)
    for path, inode in sockets:
        unlink_ours(path, inode)
    deadline = time.monotonic() + patience
    while left and (remaining := deadline - time.monotonic()) > 0:
        poll = select.poll()
        for fd in left:
            poll.register(fd, select.POLLIN)  # readable: the process has ended (pidfd_open(2))
        for fd, _ in poll.poll(remaining * 1000):
            left.remove(fd)
            os.close(fd)
    for fd in left:
        kill_pidfd(fd)


def stragglers(board: Scoreboard) -> list[int]:
    """A pidfd for every worker of every generation that is still there."""
    used = min(board.header[USED], ROWS)
    rows = (board.row(number) for number in range(used))
    found = (open_pidfd(row[Cell.PID], row[Cell.START_TICKS]) for row in rows)
    return [fd for fd in found if fd is not None]


def unlink_ours(path: str, inode: int) -> None:
    """Remove a socket file and its lock, unless another instance took the place meanwhile.

    The lock file beside it is the truth: who holds its lock owns the path. The check and the
    removal happen under it, so that a successor's file is never removed.
    """
    with contextlib.suppress(OSError):
        lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.stat(path).st_ino == inode:
                os.unlink(path)
                os.unlink(f"{path}.lock")
        finally:
            os.close(lock)
