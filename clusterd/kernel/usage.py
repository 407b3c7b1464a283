"""How much memory a process has: to itself, and as its share of what it shares."""

from dataclasses import dataclass
from pathlib import Path

_KIB = 1024


@dataclass(frozen=True, slots=True)
class Usage:
    """In bytes. What is swapped out is in none of them."""

    uss: int  # of its own (unique set size): what would be free if it alone ended
    pss: int  # that, and its share of each page that others map too (proportional set size)
    rss: int  # all that it maps and that is in memory, shared or not


def of(pid: int | str = "self", proc: Path = Path("/proc")) -> Usage:
    """The memory of a process, by /proc/PID/smaps_rollup (proc(5), Linux 4.14).

    The kernel walks the page tables for it: some 7 ms for each GB that is mapped (measured).
    Raises PermissionError for another user's process, and otherwise OSError: where there is no
    such process or no such file, and for one that has ended and is not reaped yet.
    """
    fields: dict[bytes, int] = {}
    for line in (proc / str(pid) / "smaps_rollup").read_bytes().splitlines()[1:]:
        name, _, rest = line.partition(b":")
        fields[name] = int(rest.split()[0]) * _KIB
    if b"Pss" not in fields:
        raise ProcessLookupError(f"process {pid} has no memory any more")
    uss = fields[b"Private_Clean"] + fields[b"Private_Dirty"]
    return Usage(uss, fields[b"Pss"], fields[b"Rss"])


def tree(pid: int, proc: Path = Path("/proc")) -> Usage:
    """The memory of a process and all of its descendants, those that end meanwhile left out.

    Raises OSError where that of the process itself cannot be read.
    """
    whole = of(pid, proc)
    for child in _children(pid, proc):
        try:
            part = tree(child, proc)
        except OSError:
            continue
        whole = Usage(whole.uss + part.uss, whole.pss + part.pss, whole.rss + part.rss)
    return whole


def _children(pid: int, proc: Path) -> list[int]:
    """Those that any of its threads has started: /proc/PID/task/TID/children (proc(5))."""
    try:
        files = [task / "children" for task in (proc / str(pid) / "task").iterdir()]
        return [int(child) for file in files for child in file.read_bytes().split()]
    except OSError:
        return []
