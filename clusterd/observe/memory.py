"""The memory of a cluster's processes, as `clusterd status --memory` shows it."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from clusterd.core.terminal import clean_lines
from clusterd.core.units import show_bytes
from clusterd.observe.snapshot import MAIN, Snapshot

WIDTHS = (24, 8, 11, 11, 11)  # 69 columns with their blanks
EXPLAINED = (
    "USS is a process's own memory, PSS that and its share of what it shares: PSS adds up, and RSS",
    "counts what is shared in each process anew.",
)


class Process(NamedTuple):
    """One process, or several that another has started; in bytes."""

    name: str
    pid: int
    uss: int = 0
    pss: int = 0
    rss: int = 0
    error: str = ""  # why its memory could not be read


def processes(shot: Snapshot) -> list[tuple[str, int]]:
    """Name and pid of each that a status names: the master, zygotes, workers by slot."""

    def of(group: str) -> str:
        return "" if group == MAIN else f"{group} "

    found = [("master", shot.pid)]
    found += [(f"{of(z.group)}zygote g{z.generation}", z.pid) for z in shot.zygotes]
    workers = sorted(shot.workers, key=lambda w: (w.group != MAIN, w.group, w.slot, w.generation))
    found += [(f"{of(w.group)}worker {w.slot} g{w.generation}", w.pid) for w in workers if w.pid]
    return found


def as_object(found: Sequence[Process]) -> dict[str, Any]:
    """What `--json` adds to a status."""
    rows = [
        {"name": one.name, "pid": one.pid, "error": one.error}
        if one.error
        else {key: value for key, value in one._asdict().items() if key != "error"}
        for one in found
    ]
    return {"memory": {"processes": rows, **_sum(found)}}


def memory_table(found: Sequence[Process]) -> str:
    """A line a process, and their sum; what could not be read is said, not counted."""
    lines = [_line("MEMORY OF", "PID", "USS", "PSS", "RSS")]
    for one in found:
        sizes = (one.uss, one.pss, one.rss)
        cells = ["-"] * 3 if one.error else [show_bytes(size) for size in sizes]
        lines.append(_line(one.name, str(one.pid or ""), *cells))
    total = _sum(found)
    lines.append(_line("all", "", show_bytes(total["uss"]), show_bytes(total["pss"]), ""))
    return clean_lines("\n".join([*lines, *_unread(found), "", *EXPLAINED]))


def _sum(found: Iterable[Process]) -> Mapping[str, int]:
    rows = list(found)
    return {
        "uss": sum(one.uss for one in rows),
        "pss": sum(one.pss for one in rows),
        "unread": sum(bool(one.error) for one in rows),
    }


def _unread(found: Iterable[Process]) -> list[str]:
    """Why figures are missing, each reason once."""
    reasons: dict[str, int] = {}
    for one in found:
        if one.error:
            reasons[one.error] = reasons.get(one.error, 0) + 1
    return [f"not counted: {count} of them, {reason}" for reason, count in reasons.items()]


def _line(name: str, *cells: str) -> str:
    width, *widths = WIDTHS
    parts = [name.ljust(width), *(c.rjust(w) for c, w in zip(cells, widths, strict=True))]
    return " ".join(parts).rstrip()
