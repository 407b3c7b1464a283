"""The lock of a singleton: its keeper, and whatever that started, runs; no other does.

A file in the runtime directory that no other user may open, locked by flock(2). Such a lock belongs
to the open file. The master opens it anew for each keeper, and the program inherits the keeper's:
so it is free when the last copy is closed, whether keeper, master or program is gone first.
"""

import fcntl
import os
from collections.abc import Iterator

from clusterd.kernel.process import kill_pidfd


class Lock:
    """The lock of a group or a slot. `take` it; where that fails, `wait` for what it returns."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.holder = 0  # the keeper that we wait for

    def fileno(self) -> int:
        return self._fd

    def take(self) -> bool:
        """Have it, if it is free. Raises OSError."""
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def wait(self) -> int | None:
        """Return a descriptor that can be read when the keeper that has it has ended.

        None where no such keeper is found: it is being taken or let go, or its keeper is gone.
        """
        self.holder = next((taker for pid, taker in holders(self._fd) if pid == taker), 0)
        if not self.holder:
            return None
        try:
            pidfd = os.pidfd_open(self.holder)
        except OSError:
            return None
        if any(pid == self.holder for pid, _ in holders(self._fd)):
            return pidfd  # and not of another process that was given its number
        os.close(pidfd)
        return None

    def end_abandoned(self) -> list[int]:
        """Kill what still has it though its keeper is gone; return the pids."""
        found = []
        for pid in self._abandoned():
            try:
                pidfd = os.pidfd_open(pid)
            except OSError:
                continue
            if pid in self._abandoned():  # and still: the number is held by the descriptor now
                kill_pidfd(pidfd)
                found.append(pid)
            os.close(pidfd)
        return found

    def _abandoned(self) -> list[int]:
        """Return the processes that have it, unless the keeper is one of them, or hidden."""
        found = set(holders(self._fd))
        alive = {taker for _, taker in found if os.path.exists(f"/proc/{taker}")}
        hidden = {taker for taker in alive if not os.access(f"/proc/{taker}/fd", os.R_OK)}
        if hidden or any(pid == taker for pid, taker in found):
            return []
        return [pid for pid, _ in found]


def holders(lock: int) -> Iterator[tuple[int, int]]:
    """Yield each process that has the lock of a file, and the one that took it.

    As far as we may look: into processes of our user. Others that have the file open, but not
    locked, are not among them: proc(5) shows a lock with the descriptors that it belongs to.
    """
    ours = os.fstat(lock)
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            fds = os.listdir(f"/proc/{pid}/fd")
        except OSError:
            continue
        for fd in fds:
            if taker := _taker(pid, fd, ours):
                yield int(pid), taker
                break


def _taker(pid: str, fd: str, ours: os.stat_result) -> int:
    """Return the process that took the lock that a descriptor has on this file, or 0."""
    try:
        if not os.path.samestat(os.stat(f"/proc/{pid}/fd/{fd}"), ours):
            return 0
        with open(f"/proc/{pid}/fdinfo/{fd}") as file:
            for line in file:
                # lock: 1: FLOCK  ADVISORY  WRITE 1234 fe:00:5678 0 EOF
                words = line.split()
                if words[:1] == ["lock:"] and words[2] == "FLOCK":
                    return int(words[5])
    except (OSError, ValueError, IndexError):
        pass
    return 0
