"""Orphans: what the application has started and what has outlived its worker.

The master adopts them, as subreaper. They get SIGTERM once their worker is gone and SIGKILL a
while later, so that nothing of the application outlives a reload or a stop. Those that have
changed their session (daemons, on purpose) are left alone and reported once. Processes that do not
descend from a worker or zygote of ours, as pid 1 of a container inherits them, are only reaped.

The master looks for them when a process of ours or an orphan has ended, and at no other time.
"""

import signal
from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING, Any

from clusterd.core.events import Kind
from clusterd.kernel.descent import Identity, Orphan

if TYPE_CHECKING:
    from clusterd.master.cluster import Cluster

GRACE = 3.0  # seconds from SIGTERM to SIGKILL
HOPELESS = 5.0  # seconds after SIGKILL until the master does not wait for it any more
UNBORN = 1.0  # seconds until it looks again, where a look failed, or could take a newborn worker
MOST_ANCESTORS = 64  # whose names are remembered


@dataclass(slots=True)
class Hunted:
    """An orphan that was told to end."""

    orphan: Orphan
    kill_at: float
    killed: bool = False


@dataclass(slots=True)
class Orphans:
    """Those that the master knows of."""

    due: float = inf  # when to look again; 0 for at once
    hunted: dict[int, Hunted] = field(default_factory=dict)  # by pid
    spared: set[Identity] = field(default_factory=set)  # reported once
    since: dict[Identity, float] = field(default_factory=dict)  # by ancestor: when it was found out
    ancestors: dict[int, dict[str, Any]] = field(default_factory=dict)  # who they were, by pid

    @property
    def over(self) -> bool:
        """There is none left to wait for."""
        return not self.hunted and self.due == inf


def ended(cluster: "Cluster", pid: int, identity: dict[str, Any]) -> None:
    """A worker or zygote has ended: look for what it left."""
    orphans = cluster.orphans
    orphans.ancestors[pid] = identity
    while len(orphans.ancestors) > MOST_ANCESTORS:
        del orphans.ancestors[next(iter(orphans.ancestors))]
    orphans.due = 0.0


def reaped(cluster: "Cluster", pid: int) -> None:
    """A child that is no process of ours was reaped: if it was an orphan, its children are too."""
    if cluster.orphans.hunted.pop(pid, None) is not None:
        cluster.orphans.due = 0.0


def settle(cluster: "Cluster") -> None:
    """Find the orphans among our children, and end them. Called at each turn."""
    orphans, now = cluster.orphans, cluster.kernel.now()
    hurry = any(group.goal.quick for group in cluster.groups.values())
    if orphans.due > now and not (hurry and any(not h.killed for h in orphans.hunted.values())):
        return
    try:
        found = cluster.kernel.orphans(ours(cluster))
    except OSError:  # for want of descriptors, say
        orphans.due = now + UNBORN
        return
    orphans.due = inf
    orphans.spared &= {(one.pid, one.ticks) for one in found}  # the others have ended
    unborn = any(w.pid is None for g in cluster.groups.values() for w in g.roster.workers.values())
    told: dict[Identity, list[Orphan]] = {}
    for one in found:
        if (one.pid, one.ticks) in orphans.spared:
            continue
        if not one.same_session:
            _spare(cluster, one, "it has a session of its own")
        elif unborn and "slot" not in orphans.ancestors.get(one.ancestor[0], {}):
            orphans.due = now + UNBORN  # of a zygote: it may be a worker that has not said hello
        elif one.pid not in orphans.hunted and not _is_shared(cluster, one.ancestor):
            since = orphans.since.setdefault(one.ancestor, now)
            orphans.hunted[one.pid] = Hunted(one, since + GRACE)
            cluster.kernel.kill(one.pid, signal.SIGTERM)
            told.setdefault(one.ancestor, []).append(one)
    for ancestor, some in told.items():
        names = [f"{one.name} (pid {one.pid})" for one in some]
        cluster.note(Kind.ORPHANS_ENDED, **_of(cluster, ancestor), processes=names)
    _hurry(cluster, now)
    if orphans.over:
        orphans.since.clear()


def _hurry(cluster: "Cluster", now: float) -> None:
    """Kill those whose time is over; give up those that do not even die of that."""
    orphans = cluster.orphans
    quick = any(group.goal.quick for group in cluster.groups.values())
    for pid, one in list(orphans.hunted.items()):
        if not one.killed and (quick or one.kill_at <= now):
            one.killed, one.kill_at = True, now
            cluster.kernel.kill(pid, signal.SIGKILL)
            reason = "quick stop" if quick else f"it did not end within {GRACE:g} s"
            name = f"{one.orphan.name} (pid {pid})"
            where = _of(cluster, one.orphan.ancestor)
            cluster.note(Kind.ORPHANS_KILLED, **where, processes=[name], reason=reason)
        if one.killed and one.kill_at + HOPELESS <= now:
            del orphans.hunted[pid]
            _spare(cluster, one.orphan, "it cannot be killed")
            continue
        orphans.due = min(orphans.due, one.kill_at + (HOPELESS if one.killed else 0.0))


def _is_shared(cluster: "Cluster", ancestor: Identity) -> bool:
    """Return whether workers live that were forked from this ancestor, a zygote: what it has
    started is theirs too, as multiprocessing's resource tracker. Their end is a reason to look."""
    whose = cluster.orphans.ancestors.get(ancestor[0], {})
    group = cluster.groups.get(whose.get("group", ""))
    if group is None or "slot" in whose:
        return False
    return any(w.generation == whose["generation"] for w in group.roster.workers.values())


def _spare(cluster: "Cluster", one: Orphan, why: str) -> None:
    cluster.orphans.spared.add((one.pid, one.ticks))
    names = [f"{one.name} (pid {one.pid})"]
    where = _of(cluster, one.ancestor)
    cluster.note(Kind.ORPHANS_SPARED, **where, processes=names, reason=why)


def _of(cluster: "Cluster", ancestor: Identity) -> dict[str, Any]:
    """Return the worker or zygote that orphans descend from, as other events name it."""
    return cluster.orphans.ancestors.get(ancestor[0]) or {"pid": ancestor[0]}


def ours(cluster: "Cluster") -> set[int]:
    """Return the pids of the children that the master has started."""
    groups = cluster.groups.values()
    known = {w.pid for g in groups for w in g.roster.workers.values() if w.pid is not None}
    known |= {zygote.pid for group in groups for zygote in group.roster.zygotes}
    if cluster.ahead is not None:
        known.add(cluster.ahead.pid)
    if cluster.upgrade is not None:
        known.add(cluster.upgrade.pid)
    return known
