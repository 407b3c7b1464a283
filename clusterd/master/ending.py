"""How a group ends, and how listeners do: nothing new gets in, and nobody who waits is reset."""

from collections.abc import Iterable
from dataclasses import replace

from clusterd.core.events import Kind
from clusterd.fleet.goal import Mode
from clusterd.fleet.lifecycle import Phase
from clusterd.fleet.roster import ZygotePhase
from clusterd.ipc.messages import Sockets
from clusterd.master.cluster import Cluster
from clusterd.master.group import Group
from clusterd.master.listener import Listener


def stop_group(group: Group) -> None:
    """Have the workers of a group leave, and then its zygotes."""
    if group.goal.mode is Mode.STOPPING:
        return
    if group.goal.candidate is not None:
        stopping = "the cluster is stopping"
        failed = {"generation": group.goal.candidate, "serving": group.goal.stable}
        group.note(Kind.ROLLOUT_FAILED, **failed, reason=stopping)
    # Nobody accepts while paused: a last worker answers those who wait in the queues.
    zygote = group.roster.zygote(group.goal.stable)
    loaded = zygote is not None and zygote.phase is ZygotePhase.LOADED
    # (One that the pause has not yet reached does so as it leaves.)
    serving = any(worker.phase is Phase.READY for worker in group.roster.workers.values())
    sweep = group.goal.mode is Mode.PAUSED and loaded and not serving
    group.goal = replace(group.goal, mode=Mode.STOPPING, candidate=None, why="stop", sweep=sweep)
    refuse_newcomers(group, group.sockets)


def remove_group(group: Group) -> None:
    """A group that the settings no longer name has left: nothing of it stays."""
    for one in group.sockets:
        group.note(Kind.UNBOUND, address=one.name)
    group.close()
    del group.cluster.groups[group.name]
    group.note(Kind.GROUP_REMOVED)
    tell_sockets(group.cluster)


def refuse_newcomers(group: Group, listeners: Iterable[Listener]) -> None:
    """Let nothing new into the queues of these."""
    for reason in group.sockets.refuse_newcomers(listeners):
        group.note(Kind.TROUBLE, reason=reason, next="who comes now may be reset")


def tell_sockets(cluster: Cluster) -> None:
    """Have every zygote know which socket files to remove, should we be killed."""
    for group in cluster.groups.values():
        for channel in group.zygote_channels.values():
            channel.send(Sockets(cluster.files()))
