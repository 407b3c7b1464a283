"""What happened between two snapshots: requests a second, latencies, CPU. Pure."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from clusterd.observe.snapshot import Snapshot, WorkerView

WINDOW = 2.0  # seconds to look back at least: a worker writes its CPU time once a second


class Rates(NamedTuple):
    """One worker, or all of a cluster. None where nothing can be known."""

    requests: float | None = None  # a second
    p50: float | None = None  # seconds
    p99: float | None = None
    cpu: float | None = None  # of one CPU: 1.0 keeps one busy


NOTHING = Rates()
Key = tuple[str, int, int]


def key(worker: WorkerView) -> Key:
    """What tells a process from all others, also after its pid was given out again."""
    return worker.group, worker.pid, worker.row


def since(history: Sequence[Snapshot]) -> Snapshot | None:
    """The snapshot to compare the last one of a history with: the youngest that is old enough.

    Earlier ones of another master, or of another start of it, tell nothing.
    """
    if not history:
        return None
    now = history[-1]
    same = [shot for shot in history[:-1] if shot.pid == now.pid and shot.uptime < now.uptime]
    old = [shot for shot in same if now.uptime - shot.uptime >= WINDOW]
    return old[-1] if old else (same[0] if same else None)


def workers(before: Snapshot | None, now: Snapshot) -> dict[Key, Rates]:
    """The rates of each worker of `now`."""
    known = {key(worker): worker for worker in before.workers} if before is not None else {}
    return {
        key(worker): _one(known.get(key(worker)), worker, before, now) for worker in now.workers
    }


def whole(before: Snapshot | None, now: Snapshot) -> Rates:
    """The rates of the cluster: what workers did that are gone meanwhile counts too."""
    if before is None:
        return NOTHING
    seconds = now.uptime - before.uptime
    known = {key(worker): worker for worker in before.workers}
    grown = [_grown(known.get(key(worker)), worker) for worker in now.workers]
    latency = [sum(column) for column in zip(*filter(None, grown), strict=True)]
    count = now.totals.get("requests", 0) - before.totals.get("requests", 0)
    each = [rates.cpu for rates in workers(before, now).values() if rates.cpu is not None]
    return Rates(
        requests=max(0, count) / seconds,
        p50=quantile(latency, 0.50),
        p99=quantile(latency, 0.99),
        cpu=sum(each) if each else None,
    )


def _one(old: WorkerView | None, new: WorkerView, before: Snapshot | None, now: Snapshot) -> Rates:
    if old is None or before is None:
        return NOTHING
    latency = _grown(old, new)
    return Rates(
        requests=max(0, new.requests - old.requests) / (now.uptime - before.uptime),
        p50=quantile(latency, 0.50),
        p99=quantile(latency, 0.99),
        cpu=_cpu(old, new, now.uptime - before.uptime),
    )


def _cpu(old: WorkerView, new: WorkerView, seconds: float) -> float | None:
    """CPU time between two pulses by the time between them, which is not that of the snapshots."""
    if None in (old.cpu, new.cpu, old.heartbeat_age, new.heartbeat_age):
        return None
    assert old.cpu is not None
    assert new.cpu is not None
    between = seconds + (old.heartbeat_age or 0.0) - (new.heartbeat_age or 0.0)
    return max(0.0, new.cpu - old.cpu) / between if between > 0.1 else None


def _grown(old: WorkerView | None, new: WorkerView) -> list[int]:
    """Answers by bucket since then."""
    was = old.latency if old is not None and old.latency else [0] * len(new.latency)
    return [max(0, now - then) for then, now in zip(was, new.latency, strict=False)]


def quantile(buckets: Iterable[int], share: float) -> float | None:
    """Seconds within which that share of the answers came; None without any.

    Bucket i counts answers of [2^(i-1), 2^i) µs; within it they are taken to lie evenly.
    """
    counts = list(buckets)
    wanted, seen = share * sum(counts), 0.0
    if not wanted:
        return None
    for number, count in enumerate(counts):
        if count and seen + count >= wanted:
            low, high = float(1 << number >> 1), float(1 << number)
            return (low + (high - low) * (wanted - seen) / count) / 1e6
        seen += count
    return None
