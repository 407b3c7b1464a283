"""A snapshot as people read it, in 80 columns."""

from collections.abc import Iterable, Mapping

from clusterd.core.terminal import clean_lines
from clusterd.core.units import show_count, show_seconds
from clusterd.observe.snapshot import GroupView, Snapshot, WorkerView

# Heading, width (negative: to the left), so that a whole row fits 80 columns.
COLUMNS = (
    ("SLOT", 4),
    ("PID", 8),
    ("GEN", 4),
    ("PHASE", -9),
    ("UP", 7),
    ("CONNS", 6),
    ("BUSY", 5),
    ("REQUESTS", 8),
    ("PULSE", 7),
    ("RESTARTS", 8),
)
UNKNOWN = "–"  # in place of a number


def table(shot: Snapshot) -> str:
    """The whole answer of `clusterd status`."""
    lines = _head(shot)
    if len(shot.groups) > 1:
        for group in shot.groups:
            own = [worker for worker in shot.workers if worker.group == group.name]
            lines += ["", *_group(group), *_rows(own, group.kind)]
    else:
        growth = _growth(shot.groups[0]) if shot.groups else []
        kind = shot.groups[0].kind if shot.groups else "app"
        lines += [*_details(shot), *growth, "", *_rows(shot.workers, kind)]
    if shot.totals and (not shot.groups or any(g.kind == "app" for g in shot.groups)):
        lines += ["", served(shot.totals)]
    return clean_lines("\n".join(lines))


def _rows(workers: Iterable[WorkerView], kind: str) -> list[str]:
    found = sorted(workers, key=lambda worker: (worker.slot, worker.generation))
    if not found:
        return ["no workers"]
    return [
        _line([name for name, _ in COLUMNS]),
        *(_line(_cells(worker, kind)) for worker in found),
    ]


def _head(shot: Snapshot) -> list[str]:
    """What the cluster is, and how it is, before its workers."""
    several = len(shot.groups) > 1
    what = f"{len(shot.groups)} groups" if several else f"{shot.app or '-'}"
    how = "" if several else f", generation {shot.generation}"
    verb = "are" if several else "is"
    return [
        f"{shot.name}: {what} {verb} {shot.state}, {shot.ready} of {shot.size} ready{how}",
        f"up {show_seconds(shot.uptime)}, master pid {shot.pid}, clusterd {shot.version}",
    ]


def _group(group: GroupView) -> list[str]:
    """What a group is, and how it is, before its workers."""
    what = f": {group.app}" if group.app else ""
    how = f"is {group.state}, {group.ready} of {group.size} ready, generation {group.generation}"
    return [f"{group.name}{what} {how}", *_details(group), *_growth(group)]


def _growth(group: GroupView) -> list[str]:
    """How the number of workers comes about, and how often they were replaced as planned."""
    lines, scaling = [], group.scaling
    if scaling is not None and scaling.by_hand:
        lines.append(f"{group.size} workers by hand; 'clusterd scale auto' goes by their load")
    elif scaling is not None:
        lines.append(f"{scaling.lowest} to {scaling.highest} workers, by their load")
    if group.recycled:
        lines.append(f"{show_count(group.recycled)} recycled so far")
    return lines


def _details(one: Snapshot | GroupView) -> list[str]:
    """What there is to say only of some."""
    lines = []
    if one.listeners:
        lines.append("listening on " + ", ".join(one.listeners))
    if one.rollout is not None:
        lines.append(f"rolling to generation {one.rollout.generation}: {one.rollout.stage}")
    if one.failed_reload:
        lines.append(f"the last reload failed: {one.failed_reload}")
    if one.previous is not None:
        lines.append(f"generation {one.previous} is kept for 'clusterd rollback'")
    return lines


def _cells(worker: WorkerView, kind: str) -> list[str]:
    """One worker's row. The pulse is how long ago its loop last turned.

    What a program of a command group serves is not known: that is "–", not 0.
    """
    pulse = worker.heartbeat_age
    counts = [str(worker.connections), str(worker.in_flight), show_count(worker.requests)]
    return [
        str(worker.slot),
        str(worker.pid),
        str(worker.generation),
        worker.phase,
        show_seconds(worker.uptime),
        *(counts if kind == "app" else [UNKNOWN] * len(counts)),
        "-" if pulse is None else show_seconds(pulse),
        str(worker.restarts),
    ]


def _line(cells: list[str]) -> str:
    parts = [
        cell.ljust(-width) if width < 0 else cell.rjust(width)
        for cell, (_, width) in zip(cells, COLUMNS, strict=True)
    ]
    return " ".join(parts).rstrip()


def served(totals: Mapping[str, int]) -> str:
    """What was served since the start, by workers that are gone too."""
    parts = [
        f"{show_count(totals.get('requests', 0))} requests "
        f"on {show_count(totals.get('accepted', 0))} connections"
    ]
    parts += [
        f"{show_count(totals[key])} {name}"
        for key, name in (
            ("answered_4xx", "of them 4xx"),
            ("answered_5xx", "of them 5xx"),
            ("app_errors", "app errors"),
        )
        if totals.get(key)
    ]
    return "served " + ", ".join(parts)
