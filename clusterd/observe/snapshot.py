"""The control socket's `status` reply as a typed value.

A key that a reply lacks takes its default, so that a newer `clusterd status` reads an older
master and the other way round.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class WorkerView:
    """One worker process. During a roll a slot has two."""

    slot: int
    pid: int
    generation: int
    phase: str
    row: int = -1
    uptime: float = 0.0
    connections: int = 0
    in_flight: int = 0
    requests: int = 0
    heartbeat_age: float | None = None  # None: it has not pulsed yet
    restarts: int = 0  # of its slot, since the cluster started


@dataclass(frozen=True, slots=True)
class ZygoteView:
    """One zygote: the serving generation's, the next one's, or the previous one kept."""

    generation: int
    pid: int
    phase: str


@dataclass(frozen=True, slots=True)
class RolloutView:
    """A rollout in progress."""

    generation: int
    stage: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A cluster at one moment."""

    name: str
    app: str
    version: str
    pid: int
    state: str
    size: int
    ready: int
    generation: int
    uptime: float
    previous: int | None = None
    rollout: RolloutView | None = None
    listeners: list[str] = field(default_factory=list)
    workers: list[WorkerView] = field(default_factory=list)
    zygotes: list[ZygoteView] = field(default_factory=list)
    totals: dict[str, int] = field(default_factory=dict)
    journal: int = 0  # the number of the latest event

    @classmethod
    def of(cls, reply: Mapping[str, Any]) -> Self:
        """The snapshot that a `status` reply describes."""
        given = _known(cls, reply)
        rollout = given.get("rollout")
        given["rollout"] = RolloutView(**_known(RolloutView, rollout)) if rollout else None
        given["workers"] = [
            WorkerView(**_known(WorkerView, worker)) for worker in given.get("workers", ())
        ]
        given["zygotes"] = [
            ZygoteView(**_known(ZygoteView, zygote)) for zygote in given.get("zygotes", ())
        ]
        return cls(**given)


def _known(cls: type[Any], reply: Mapping[str, Any]) -> dict[str, Any]:
    """What of a reply this version has a place for."""
    names = {entry.name for entry in dataclasses.fields(cls)}
    return {name: value for name, value in reply.items() if name in names}
