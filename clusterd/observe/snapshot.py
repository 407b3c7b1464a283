"""The control socket's `status` reply as a typed value.

A key that a reply lacks takes its default, so that a newer `clusterd status` reads an older
master and the other way round. Named tuples, not dataclasses: those take longer to import than
all the rest of a `clusterd status`.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Self

MAIN = "web"  # the group that a reply speaks of where it names none


class WorkerView(NamedTuple):
    """One worker process. During a roll a slot has two."""

    slot: int
    pid: int
    generation: int
    phase: str
    group: str = MAIN
    row: int = -1
    uptime: float = 0.0
    connections: int = 0
    in_flight: int = 0
    requests: int = 0
    held: int = 0  # bytes of memory that it holds for clients
    spooled: int = 0  # bytes of request bodies that it has on disk
    loop_lag: float = 0.0  # seconds by which its last pulse was late
    heartbeat_age: float | None = None  # None: it has not pulsed yet
    restarts: int = 0  # of its slot, since the cluster started
    program: int = 0  # pid of what a command's worker runs
    # Only in a detailed reply:
    cpu: float | None = None  # seconds of CPU time that it has used
    latency: Sequence[int] = ()  # answers by bucket, see `ipc.scoreboard`


class ZygoteView(NamedTuple):
    """One zygote: the serving generation's, the next one's, or the previous one kept."""

    generation: int
    pid: int
    phase: str
    group: str = MAIN


class RolloutView(NamedTuple):
    """A rollout in progress."""

    generation: int
    stage: str


class ScalingView(NamedTuple):
    """Autoscaling: its bounds, and whether it keeps still since somebody set the size."""

    lowest: int
    highest: int
    by_hand: bool = False


class GroupView(NamedTuple):
    """One group: equal workers with a size, generations and sockets of their own."""

    name: str
    kind: str = "app"  # or "command"
    app: str = ""  # or the command that it runs
    state: str = ""
    size: int = 0
    ready: int = 0
    generation: int = 0
    previous: int | None = None
    rollout: RolloutView | None = None
    failed_reload: str = ""  # why the last reload failed
    scaling: ScalingView | None = None
    recycled: int = 0  # workers replaced since they had served long enough
    listeners: Sequence[str] = ()


class Snapshot(NamedTuple):
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
    failed_reload: str = ""  # why the last reload failed
    listeners: Sequence[str] = ()
    workers: Sequence[WorkerView] = ()
    zygotes: Sequence[ZygoteView] = ()
    groups: Sequence[GroupView] = ()
    totals: Mapping[str, int] = {}
    journal: int = 0  # the number of the latest event

    @classmethod
    def of(cls, reply: Mapping[str, Any]) -> Self:
        """The snapshot that a `status` reply describes."""
        given = _known(cls, reply)
        given["workers"] = [WorkerView(**_known(WorkerView, w)) for w in given.get("workers", ())]
        given["zygotes"] = [ZygoteView(**_known(ZygoteView, z)) for z in given.get("zygotes", ())]
        given["groups"] = [_group(one) for one in given.get("groups", ())]
        return cls(**_rolling(given))


def _group(reply: Mapping[str, Any]) -> GroupView:
    given = _rolling(_known(GroupView, reply))
    bounds = given.get("scaling")
    scaling = ScalingView(**_known(ScalingView, bounds)) if bounds else None
    return GroupView(**{**given, "scaling": scaling})


def _rolling(given: dict[str, Any]) -> dict[str, Any]:
    """The same with its rollout typed."""
    rollout = given.get("rollout")
    return {**given, "rollout": RolloutView(**_known(RolloutView, rollout)) if rollout else None}


def _known(cls: Any, reply: Mapping[str, Any]) -> dict[str, Any]:
    """What of a reply this version has a place for."""
    return {name: reply[name] for name in cls._fields if name in reply}
