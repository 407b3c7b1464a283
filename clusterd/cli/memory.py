"""Measuring the memory of a cluster's processes: done here, since it costs the asker only."""

from collections.abc import Iterator
from pathlib import Path

from clusterd.kernel import usage
from clusterd.observe.memory import Process, processes
from clusterd.observe.snapshot import Snapshot

PROC = Path("/proc")


def measure(shot: Snapshot, proc: Path = PROC) -> list[Process]:
    """Every process that a status names, and below each worker what that has started."""
    named = processes(shot)
    ours = {pid for _, pid in named}
    children = _children(proc)
    found = []
    for name, pid in named:
        found.append(_one(name, pid, proc))
        started = list(_below(pid, children, ours)) if pid != shot.pid else []
        if started:
            found.append(_sum(f"  started by it: {len(started)}", started, proc))
    return found


def _one(name: str, pid: int, proc: Path) -> Process:
    try:
        taken = usage.of(pid, proc)
    except PermissionError:
        return Process(name, pid, error="which only its own user and root may look at")
    except (FileNotFoundError, ProcessLookupError):
        return Process(name, pid, error="gone meanwhile")
    except OSError as error:
        return Process(name, pid, error=str(error.strerror))
    return Process(name, pid, taken.uss, taken.pss, taken.rss)


def _sum(name: str, pids: list[int], proc: Path) -> Process:
    parts = [_one(name, pid, proc) for pid in pids]
    error = next((one.error for one in parts if one.error), "")
    if error:
        return Process(name, 0, error=error)
    sizes = (sum(sizes) for sizes in zip(*((p.uss, p.pss, p.rss) for p in parts), strict=True))
    return Process(name, 0, *sizes)


def _children(proc: Path) -> dict[int, list[int]]:
    """All processes by their parent: field 4 of /proc/PID/stat, after the name (proc(5))."""
    found: dict[int, list[int]] = {}
    for entry in proc.iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_bytes().rpartition(b")")[2].split()[1])
            except (OSError, IndexError):
                continue
            found.setdefault(parent, []).append(int(entry.name))
    return found


def _below(pid: int, children: dict[int, list[int]], ours: set[int]) -> Iterator[int]:
    for child in sorted(children.get(pid, ())):
        if child not in ours:
            yield child
            yield from _below(child, children, ours)
