"""A snapshot as people read it, in 80 columns."""

from clusterd.core.units import show_count, show_seconds
from clusterd.observe.snapshot import Snapshot, WorkerView

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


def table(shot: Snapshot) -> str:
    """The whole answer of `clusterd status`."""
    workers = sorted(shot.workers, key=lambda worker: (worker.slot, worker.generation))
    lines = [*_head(shot), "", _line([name for name, _ in COLUMNS])]
    lines += [_line(_cells(worker)) for worker in workers]
    if not workers:
        lines.append("no workers")
    if shot.totals:
        lines += ["", _totals(shot.totals)]
    return "\n".join(lines)


def _head(shot: Snapshot) -> list[str]:
    """What the cluster is, and how it is, before its workers."""
    lines = [
        f"{shot.name}: {shot.app or '-'} is {shot.state}, {shot.ready} of {shot.size} ready, "
        f"generation {shot.generation}",
        f"up {show_seconds(shot.uptime)}, master pid {shot.pid}, clusterd {shot.version}",
    ]
    if shot.listeners:
        lines.append("listening on " + ", ".join(shot.listeners))
    if shot.rollout is not None:
        lines.append(f"rolling to generation {shot.rollout.generation}: {shot.rollout.stage}")
    if shot.previous is not None:
        lines.append(f"generation {shot.previous} is kept for 'clusterd rollback'")
    return lines


def _cells(worker: WorkerView) -> list[str]:
    """One worker's row. The pulse is how long ago its loop last turned."""
    pulse = worker.heartbeat_age
    return [
        str(worker.slot),
        str(worker.pid),
        str(worker.generation),
        worker.phase,
        show_seconds(worker.uptime),
        str(worker.connections),
        str(worker.in_flight),
        show_count(worker.requests),
        "-" if pulse is None else show_seconds(pulse),
        str(worker.restarts),
    ]


def _line(cells: list[str]) -> str:
    parts = [
        cell.ljust(-width) if width < 0 else cell.rjust(width)
        for cell, (_, width) in zip(cells, COLUMNS, strict=True)
    ]
    return " ".join(parts).rstrip()


def _totals(totals: dict[str, int]) -> str:
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
