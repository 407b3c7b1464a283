"""Tell of which process of ours another one descends, whatever became of those in between.

A process whose parent ends is given to another (the master, as subreaper, or pid 1), and nothing
in it says where it came from: it may have left its process group and session, its environment is
its own, its title is a copy of ours. What fork and exec both pass on, and what programs have no
reason to change, is a resource limit. RLIMIT_RSS has had no effect since Linux 2.4.30
(getrlimit(2)), so each zygote and worker writes its identity there: pid and start time, as a size
of more than four exabytes. /proc/PID/limits shows it, to everybody.
"""

import contextlib
import os
import resource
from dataclasses import dataclass
from pathlib import Path

from clusterd.kernel.process import PID_LIMIT, is_running, parent_of, start_ticks

_MARK = 1 << 62
_PID_BITS = PID_LIMIT.bit_length() - 1
_FIELD = b"Max resident set"
MOST = 4096  # processes that are looked at

Identity = tuple[int, int]  # pid, and start time in clock ticks since boot


@dataclass(frozen=True, slots=True)
class Orphan:
    """A process whose ancestor of ours has ended."""

    pid: int
    ticks: int
    name: str  # of its program, 15 bytes at most
    ancestor: Identity
    same_session: bool  # as ours; else it, or who started it, has left it on purpose


def mark() -> bool:
    """Write our identity where our descendants inherit it; whether the system let us."""
    own = os.getpid()
    value = _MARK | start_ticks(own) << _PID_BITS | own
    try:
        hard = resource.getrlimit(resource.RLIMIT_RSS)[1]
        resource.setrlimit(resource.RLIMIT_RSS, (value, hard))
    except (OSError, ValueError, OverflowError):  # the hard limit is lower than that
        return False
    return True


def ancestor_of(pid: int, proc: Path = Path("/proc")) -> Identity | None:
    """Return the marked process from which this one descends (or which it is), if there is one."""
    try:
        lines = (proc / str(pid) / "limits").read_bytes().splitlines()
        soft = next(line for line in lines if line.startswith(_FIELD)).split()[3]
        value = int(soft)
    except (OSError, StopIteration, IndexError, ValueError):  # "unlimited" is the rule
        return None
    if not _MARK <= value < 2 * _MARK:
        return None
    return value & (1 << _PID_BITS) - 1, (value - _MARK) >> _PID_BITS


def orphan(pid: int) -> Orphan | None:
    """Return what is known of this process, if it is one: its marked ancestor has ended."""
    ancestor, ticks = ancestor_of(pid), start_ticks(pid)
    if ancestor is None or not ticks or ancestor[0] == pid or is_running(*ancestor):
        return None
    if ancestor == ancestor_of(os.getpid()):
        return None  # we descend from it too: it is of another cluster, around ours
    try:
        with open(f"/proc/{pid}/comm", "rb") as file:
            name = file.read().decode("utf-8", "replace").strip()
        same_session = os.getsid(pid) == os.getsid(0)
    except OSError:
        return None  # it has just ended
    return Orphan(pid, ticks, name, ancestor, same_session)


def children() -> list[int]:
    """Return the pids of our own children, those included that were given to us.

    /proc/PID/task/TID/children (proc(5)) needs CONFIG_PROC_CHILDREN; else all of /proc is asked.
    """
    own = os.getpid()
    try:
        tasks = list(Path("/proc/self/task").iterdir())
        found = [int(pid) for task in tasks for pid in (task / "children").read_bytes().split()]
    except OSError:
        found = [pid for pid in everything() if parent_of(pid) == own]
    return found[:MOST]


def is_below_us(pid: int) -> bool:
    """Return whether a process is a child of ours, or a child of one, and so on."""
    own = os.getpid()
    for _ in range(MOST):
        pid = parent_of(pid)
        if pid in (0, own):
            break
    return pid == own


def members(group: int) -> set[int]:
    """Return our own children that are in a process group."""
    found = set()
    for pid in children():
        with contextlib.suppress(OSError):  # it has just been reaped
            if os.getpgid(pid) == group:
                found.add(pid)
    return found


def everything() -> list[int]:
    """Return the pids of all processes that we can see."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]
