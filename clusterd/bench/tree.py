"""What a server's processes use, by /proc and the kernel's clocks: CPU time, memory, who is there.

CPU time of those that died meanwhile counts: their parents have it from wait(2).
"""

import os
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

_TICK = 1 / os.sysconf("SC_CLK_TCK")  # seconds
_TOLD_BY_PARENT = os.path.exists(f"/proc/self/task/{os.getpid()}/children")
_GONE = (FileNotFoundError, ProcessLookupError)
_HELPERS = (b"multiprocessing.resource_tracker", b"multiprocessing.semaphore_tracker")


@dataclass(frozen=True, slots=True)
class Process:
    """A line of /proc/PID/stat, see proc_pid_stat(5). `started` tells it from a later one of the
    same number."""

    pid: int
    state: str
    parent: int
    waited: float  # seconds of CPU time of the children that it has waited for, and of theirs
    started: int  # ticks since boot

    @property
    def alive(self) -> bool:
        """Neither a zombie nor dead."""
        return self.state not in "ZX"


def process(pid: int) -> Process | None:
    """What it is, or None where it is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            rest = file.read().rpartition(b")")[2].split()
    except _GONE:
        return None
    waited = (int(rest[13]) + int(rest[14])) * _TICK
    return Process(pid, rest[0].decode(), int(rest[1]), waited, int(rest[19]))


def cpu(pid: int) -> float:
    """User and system time of all its threads in seconds, to the nanosecond.

    Raises OSError where it is gone. The clock's number is made as clock_getcpuclockid(3) does it.
    """
    return time.clock_gettime((~pid << 3) | 2)


def pss(pids: Iterable[int]) -> int:
    """Proportional set size in bytes: private pages, and a share of the shared ones.

    Those that are gone or not ours to look at count as nothing.
    """
    total = 0
    for pid in pids:
        with suppress(*_GONE, PermissionError):
            for line in Path(f"/proc/{pid}/smaps_rollup").read_bytes().splitlines():
                if line.startswith(b"Pss:"):
                    total += int(line.split()[1]) * 1024
                    break
    return total


def descendants(root: int) -> list[Process]:
    """The living descendants of a process, without itself, parents first."""
    found: list[Process] = []
    parents = [root]
    for parent in parents:
        for pid in _children(parent):
            child = process(pid)
            if child is not None and child.alive:
                found.append(child)
                parents.append(pid)
    return found


def _children(pid: int) -> Iterator[int]:
    """The children of all its threads; see proc_pid_task_tid_children(5)."""
    if not _TOLD_BY_PARENT:
        yield from _named_by(pid)
        return
    with suppress(*_GONE):
        for thread in os.listdir(f"/proc/{pid}/task"):
            with suppress(*_GONE), open(f"/proc/{pid}/task/{thread}/children", "rb") as file:
                yield from map(int, file.read().split())


def _named_by(pid: int) -> Iterator[int]:
    """Who names it as their parent, for a kernel without CONFIG_PROC_CHILDREN: slower."""
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            child = process(int(entry))
            if child is not None and child.parent == pid:
                yield child.pid


def leaves(processes: Iterable[Process]) -> list[int]:
    """Those that have no children: the workers of most servers. Python's own helper processes,
    which serve nobody, are not among them."""
    every = list(processes)
    parents = {one.parent for one in every}
    return [one.pid for one in every if one.pid not in parents and not _is_helper(one.pid)]


def _is_helper(pid: int) -> bool:
    with suppress(*_GONE):
        line = Path(f"/proc/{pid}/cmdline").read_bytes()
        return any(name in line for name in _HELPERS)
    return False


@dataclass(slots=True)
class Usage:
    """What was used until now, since the first look."""

    at: float  # time.monotonic()
    cpu: float = 0.0  # seconds, of all, also of those that are gone
    by_pid: dict[int, float] = field(default_factory=dict)  # the same of each; the dead keep theirs
    alive: list[Process] = field(default_factory=list)


class Tree:
    """The descendants of a guard, looked at time and again. The guard itself does not count."""

    def __init__(self, guard: int) -> None:
        self._guard = guard
        self._seen: dict[tuple[int, int], float] = {}  # by pid and start: its CPU time
        self._first: dict[tuple[int, int], float] = {}  # the same when we began
        self._began: float | None = None
        self._most = 0.0

    def alive(self) -> list[Process]:
        """Those that live now."""
        return descendants(self._guard)

    def look(self) -> Usage:
        """Their CPU time until now, of all and of each.

        Two sums, of which the larger counts: of what each has used when it was last seen, and of
        what the living have used together with those that they waited for. The first lacks the
        last moments of the dead; the second lacks those whose parent waits for none, and is exact
        to a tick (10 ms) for each parent.
        """
        at = time.monotonic()
        alive = self.alive()
        guard = process(self._guard)
        owned = guard.waited if guard is not None else 0.0
        for one in alive:
            try:
                used = cpu(one.pid)
            except OSError:
                continue
            self._seen[one.pid, one.started] = used
            owned += used + one.waited
        if self._began is None:
            self._began, self._first = owned, dict(self._seen)
        last_seen = sum(self._seen.values()) - sum(self._first.values())
        self._most = max(self._most, last_seen, owned - self._began)
        by_pid: dict[int, float] = {}
        for who, used in self._seen.items():
            since = used - self._first.get(who, 0.0)
            by_pid[who[0]] = by_pid.get(who[0], 0.0) + since
        return Usage(at, self._most, by_pid, alive)
