"""What `status` tells: of the whole, of each group, and of each process.

Workers' own numbers are read from their rows, so asking never involves a stuck worker.
"""

import collections
from typing import Any

from clusterd import __version__
from clusterd.fleet.goal import Mode
from clusterd.fleet.lifecycle import Phase
from clusterd.fleet.roster import Worker
from clusterd.ipc.scoreboard import BUCKETS, Cell
from clusterd.master import sequence
from clusterd.master.cluster import Cluster
from clusterd.master.group import Group

Told = dict[str, Any]
# What is said of the main group where nothing is said of groups.
MAIN = ("app", "generation", "previous", "rollout", "failed_reload")


def status(cluster: Cluster, detail: bool = False) -> Told:
    """Everything that `clusterd status` shows. What is said of no group is the main one's.

    With `detail` also what `clusterd top` makes rates of.
    """
    now, main = cluster.kernel.now(), cluster.main
    groups = [group_status(group) for group in cluster.groups.values()]
    totals: collections.Counter[str] = collections.Counter()
    for group in groups:
        totals.update(group["totals"])
    wanted = [group for group in groups if not group["internal"]]
    of_main = next(group for group in groups if group["name"] == main.name)
    return {
        "name": main.config.place.name,
        "version": __version__,
        "pid": cluster.pid,
        "state": state(cluster, wanted),
        "size": sum(group["size"] for group in wanted),
        "ready": sum(group["ready"] for group in wanted),
        **{key: of_main[key] for key in MAIN},
        "listeners": [name for group in groups for name in group["listeners"]],
        "uptime": round(now - cluster.started, 3),
        "workers": [one for g in cluster.groups.values() for one in workers_status(g, now, detail)],
        "zygotes": [one for g in cluster.groups.values() for one in zygotes_status(g)],
        "groups": groups,
        "totals": dict(totals),
        "journal": cluster.journal.last,
        **({"log": cluster.log_fd} if detail else {}),
    }


def state(cluster: Cluster, groups: list[Told]) -> str:
    """The whole cluster in a word: that of its groups where they agree, else the gravest."""
    if cluster.stopping:
        return "stopping"
    if not cluster.announced:
        return "starting"
    states = {group["state"] for group in groups}
    gravest = ("degraded", "waiting", "starting", "rolling", "paused", "stopping")
    return next((one for one in gravest if one in states), "serving")


def group_status(group: Group) -> Told:
    """One group, without its processes."""
    goal = group.goal
    stage = "swapping" if goal.proven else "trying"
    totals = group.all_totals().items()
    return {
        "name": group.name,
        "kind": "command" if group.is_command else "app",
        "internal": group.is_internal,
        "app": group.config.app.app or " ".join(group.config.command.command),
        "state": group_state(group),
        "size": goal.size,
        "ready": group.roster.count(Phase.READY),
        "generation": goal.stable,
        "previous": goal.kept,
        "rollout": {"generation": goal.candidate, "stage": stage} if goal.candidate else None,
        "failed_reload": group.failed_reload,
        "scaling": scaling(group),
        "recycled": sum(group.recycled.values()),
        "listeners": [one.name for one in group.sockets],
        "totals": {Cell(c).name.lower(): count for c, count in totals if c < Cell.LATENCY},
    }


def scaling(group: Group) -> Told | None:
    """The bounds of autoscaling, and whether somebody's word keeps it still."""
    if group.autoscale is None:
        return None
    bounds = {"lowest": group.autoscale.lowest, "highest": group.autoscale.highest}
    return bounds | {"by_hand": group.by_hand}


def group_state(group: Group) -> str:
    """A group in a word."""
    if group.goal.mode is not Mode.SERVING:
        return str(group.goal.mode)
    if not group.announced:
        return "waiting" if sequence.waits(group) else "starting"
    if group.goal.candidate is not None:
        return "rolling"
    return "serving" if group.roster.count(Phase.READY) >= group.goal.size else "degraded"


def workers_status(group: Group, now: float, detail: bool = False) -> list[Told]:
    """The workers of a group, by slot."""
    workers = sorted(group.roster.workers.values(), key=lambda w: (w.slot, w.row))
    return [
        worker_status(group, worker, now) | (measured(group, worker) if detail else {})
        for worker in workers
    ]


def worker_status(group: Group, worker: Worker, now: float) -> Told:
    """One worker: the master's view of its life, and its own row."""
    row = group.board.row(worker.row)
    heartbeat = row[Cell.HEARTBEAT] / 1e6
    return {
        "group": group.name,
        "slot": worker.slot,
        "row": worker.row,
        "pid": worker.pid or 0,
        "generation": worker.generation,
        "phase": phase(worker),
        "uptime": round(now - worker.born, 3),
        "connections": row[Cell.CONNECTIONS],
        "in_flight": row[Cell.IN_FLIGHT],
        "requests": row[Cell.REQUESTS],
        "held": row[Cell.HELD],
        "spooled": row[Cell.SPOOLED],
        "loop_lag": row[Cell.LOOP_LAG] / 1e6,
        "heartbeat_age": round(max(0.0, now - heartbeat), 3) if heartbeat else None,
        "restarts": group.restarts.get(worker.slot, 0),
        "recycled": group.recycled.get(worker.slot, 0),
        **({"program": row[Cell.COMMAND]} if group.is_command else {}),
    }


def phase(worker: Worker) -> str:
    """A worker's phase, or what is more worth knowing: that it is to go, or is unwell."""
    if worker.leaving and worker.live:
        return "leaving"
    return (
        worker.condition if worker.condition and worker.phase is Phase.READY else str(worker.phase)
    )


def measured(group: Group, worker: Worker) -> Told:
    """More of a worker's own row: CPU time in seconds, answers by bucket of latency."""
    row = group.board.row(worker.row)
    latency = row[Cell.LATENCY : Cell.LATENCY + BUCKETS]
    return {"cpu": row[Cell.CPU] / 1e6, "latency": list(latency)}


def zygotes_status(group: Group) -> list[Told]:
    """The zygotes of a group."""
    return [
        {"group": group.name, "generation": z.generation, "pid": z.pid, "phase": str(z.phase)}
        for z in group.roster.zygotes
    ]
