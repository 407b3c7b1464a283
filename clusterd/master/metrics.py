"""What `metrics` tells: counts and rows as they are. Who asked works out what they mean."""

import platform
import time
from typing import Any

from clusterd import __version__
from clusterd.fleet.lifecycle import Phase
from clusterd.fleet.roster import Worker
from clusterd.ipc.scoreboard import TOTALS
from clusterd.master import report
from clusterd.master.cluster import Cluster
from clusterd.master.group import Group

PYTHON = platform.python_version()


def metrics(cluster: Cluster, _request: dict[str, Any]) -> dict[str, Any]:
    """Everything that the admin endpoint shows, living and dead apart."""
    tallies, now = cluster.tallies, cluster.kernel.now()
    groups = [of_group(group) for group in cluster.groups.values()]
    return {
        "ok": True,
        "version": __version__,
        "python": PYTHON,
        "state": report.state(cluster, [group for group in groups if not group["internal"]]),
        "uptime": round(now - cluster.started, 3),
        "now": int(now * 1e6),
        "cpu": time.process_time(),
        "journal": cluster.journal.last,
        "events": tallies.events,
        "exits": tallies.exits,
        "rollouts": tallies.rollouts,
        "groups": groups,
    }


def of_group(group: Group) -> dict[str, Any]:
    """A group: totals of its dead, whole and by slot, and the rows of its living."""
    return {
        "name": group.name,
        "kind": "command" if group.is_command else "app",
        "internal": group.is_internal,
        "state": report.group_state(group),
        "size": group.goal.size,
        "ready": group.roster.count(Phase.READY),
        "generation": group.goal.stable,
        "rolling": group.goal.candidate is not None,
        "totals": [group.totals.get(cell, 0) for cell in TOTALS],
        "slots": group.slots,
        "restarts": group.restarts,
        "workers": [of_worker(group, worker) for worker in group.roster.workers.values()],
    }


def of_worker(group: Group, worker: Worker) -> list[Any]:
    """A process: its slot, its phase, the µs of its birth, and its cells."""
    phase = "leaving" if worker.leaving and worker.live else str(worker.phase)
    row = group.board.row(worker.row)
    return [worker.slot, phase, int(worker.born * 1e6), *row.tolist()]
