"""What /proc and the kernel's clocks say about a process and its descendants."""

import ctypes
import os
import resource
import signal
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36


def adopt_orphans() -> None:
    """Become the parent of descendants whose own parent dies, so that none can be left behind."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the state on: [0] state, [1] parent, [19] start ticks."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def alive(pid: int) -> bool:
    """Whether the process exists and is no zombie."""
    try:
        return _stat(pid)[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def identity(pid: int) -> tuple[int, str]:
    """A pid with its start time: what tells it from a later process of the same number."""
    return pid, _stat(pid)[19]


def tree(root: int) -> list[int]:
    """The process and all its living descendants, parents first."""
    children: dict[int, list[int]] = defaultdict(list)
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with suppress(FileNotFoundError, ProcessLookupError):
                fields = _stat(int(entry))
                if fields[0] not in "ZX":
                    children[int(fields[1])].append(int(entry))
    found = [root] if alive(root) else []
    for pid in found:
        found.extend(children[pid])
    return found


def cpu_seconds(pid: int) -> float:
    """User + system time of all its threads, to the nanosecond (see clock_getcpuclockid(3))."""
    return time.clock_gettime((~pid << 3) | 2)


def pss_kib(pid: int) -> int:
    """Proportional set size: private pages plus its share of the shared ones."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    raise ValueError(f"no Pss line for {pid}")


def resident_kib(pid: int, peak: bool = False) -> int:
    """Memory of a process (proc(5), VmRSS), or the most that it had since `forget_peak` (VmHWM)."""
    field = "VmHWM:" if peak else "VmRSS:"
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1])
    raise ValueError(f"no {field} line for {pid}")


def forget_peak(pid: int) -> None:
    """Let the most memory that a process had begin anew (proc(5), clear_refs)."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def wakeups(pid: int) -> int:
    """Voluntary context switches of all its threads: one for every time it went back to sleep."""
    total = 0
    for status in Path(f"/proc/{pid}/task").glob("*/status"):
        with suppress(FileNotFoundError, ProcessLookupError):
            for line in status.read_text().splitlines():
                if line.startswith("voluntary_ctxt_switches:"):
                    total += int(line.split()[1])
    return total


def kill_exactly(who: tuple[int, str], number: signal.Signals) -> None:
    """Signal this very process, never a later one that was given its number."""
    with suppress(FileNotFoundError, ProcessLookupError):
        if identity(who[0]) == who:
            os.kill(who[0], number)


def reap(pids: list[int]) -> None:
    """Collect those that have died and were adopted by us."""
    for pid in pids:
        with suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)


def sweep() -> list[int]:
    """Kill whatever still descends from us (a server's orphans); the pids, for the record."""
    left = [pid for pid in tree(os.getpid()) if pid != os.getpid()]
    for pid in left:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    for pid in left:
        with suppress(ChildProcessError):
            os.waitpid(pid, 0)
    return left


@contextmanager
def descriptors(wanted: int) -> Iterator[int]:
    """Let us, and servers started meanwhile, have so many open; how many it became."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    hard = before[1]
    if hard != resource.RLIM_INFINITY and hard < wanted:
        with suppress(ValueError, OSError):  # for root only
            resource.setrlimit(resource.RLIMIT_NOFILE, (before[0], wanted))
            hard = wanted
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(allowed, before[0]), hard))
    try:
        yield max(allowed, before[0])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
