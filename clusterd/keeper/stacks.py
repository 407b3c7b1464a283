"""Where a program is, as far as can be said from outside: its processes, and what it said last."""

from collections.abc import Iterable
from pathlib import Path

from clusterd.core.terminal import clean
from clusterd.kernel.command import descendants

MOST = 100  # processes


def whereabouts(keeper: int, said: str, lines: Iterable[str]) -> str:
    """A line a process: pid, state, what of the kernel it waits in, its command line (proc(5))."""
    found = descendants(keeper)
    parts = [_process(pid) for pid in found[:MOST]] or ["no process of it lives"]
    if len(found) > MOST:
        parts.append(f"… and {len(found) - MOST} more")
    if said:
        parts += [f"its status: {said}"]
    last = [f"  {line}" for line in lines]
    if last:
        parts += ["its last lines:", *last]
    return "\n".join(parts)


def _process(pid: int) -> str:
    state = _read(pid, "stat").rpartition(")")[2].split()[:1]
    waits = _read(pid, "wchan").strip("\0")
    words = _read(pid, "cmdline").strip("\0").replace("\0", " ")
    where = f" in {waits}" if waits not in ("", "0") else ""
    return f"process {pid} {state[0] if state else '?'}{where}: {clean(words)[:300]}"


def _read(pid: int, name: str) -> str:
    try:
        return Path(f"/proc/{pid}/{name}").read_text(errors="replace")
    except OSError:
        return ""
