"""Snapshots for tests: of a shop with two groups, at some moment."""

from typing import Any

from clusterd.observe.snapshot import Snapshot

BUCKETS = 32


def worker(slot: int, /, **more: Any) -> dict[str, Any]:
    """One worker as `status` tells of it in detail."""
    return {
        "group": "web", "slot": slot, "row": slot, "pid": 4100 + slot, "generation": 3,
        "phase": "ready", "uptime": 90.0, "connections": 12, "in_flight": 2, "requests": 1000,
        "loop_lag": 0.0004, "heartbeat_age": 0.5, "restarts": 0, "cpu": 5.0,
        "latency": [0] * BUCKETS, **more,
    }  # fmt: skip


def reply(*workers: dict[str, Any], uptime: float = 100.0, **more: Any) -> dict[str, Any]:
    """A `status` reply."""
    return {
        "ok": True, "name": "shop", "app": "shop:app", "version": "0.1.0", "pid": 4000,
        "state": "serving", "size": len(workers), "ready": len(workers), "generation": 3,
        "uptime": uptime, "workers": list(workers), "journal": 9,
        "totals": {"requests": sum(one["requests"] for one in workers)}, **more,
    }  # fmt: skip


def shot(*workers: dict[str, Any], uptime: float = 100.0, **more: Any) -> Snapshot:
    """The same, typed."""
    return Snapshot.of(reply(*workers, uptime=uptime, **more))


GROUPS: list[dict[str, Any]] = [
    {"name": "web", "kind": "app", "app": "shop:app", "state": "serving", "size": 2, "ready": 2,
     "generation": 3, "listeners": ["127.0.0.1:8000"]},
    {"name": "mail", "kind": "command", "app": "python mail.py", "state": "degraded", "size": 1,
     "ready": 0, "generation": 1},
]  # fmt: skip


def latency(**counts: int) -> list[int]:
    """A histogram: `latency(b11=99)` has 99 answers in bucket 11, of 1.0 to 2.0 ms."""
    buckets = [0] * BUCKETS
    for name, count in counts.items():
        buckets[int(name[1:])] = count
    return buckets
