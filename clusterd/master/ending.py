"""How a group ends, and how listeners do: nothing new gets in, and nobody who waits is reset."""

from collections.abc import Iterable
from dataclasses import replace

from clusterd.core.events import Kind
from clusterd.fleet.goal import Mode
from clusterd.fleet.lifecycle import Phase
from clusterd.ipc.channel import MAX_FDS
from clusterd.ipc.messages import Empty, Sockets
from clusterd.master.cluster import Cluster
from clusterd.master.group import Group
from clusterd.master.listener import Listener
from clusterd.master.sockets import batched
from clusterd.master.vitals import STANDING

TRIES = 2  # workers and zygotes that may fail where a stop needs one more


def stop_group(group: Group) -> None:
    """Have the workers of a group leave, and then its zygotes."""
    if group.goal.mode is Mode.STOPPING:
        return
    if group.goal.candidate is not None:
        stopping = "the cluster is stopping"
        failed = {"generation": group.goal.candidate, "serving": group.goal.stable}
        group.note(Kind.ROLLOUT_FAILED, **failed, reason=stopping, asked=True)
    group.stop_began = group.kernel.now()
    group.goal = replace(group.goal, mode=Mode.STOPPING, candidate=None, why="stop")
    refuse_newcomers(group, group.sockets)


def settle(group: Group) -> None:
    """See whether a stop still needs a worker: for connections that wait where none accepts.

    That is so after a pause, and where all workers were killed. Level-triggered: looked at before
    each plan, until no connection waits or there is no hope of a worker.
    """
    goal, roster = group.goal, group.roster
    if goal.mode is not Mode.STOPPING or goal.quick:
        return
    served = any(w.phase is Phase.READY or w.sweeps for w in roster.workers.values())
    lost = goal.stable in roster.lost and roster.zygote(goal.stable) is None
    hopeless = (
        not roster.ever_ready
        or lost
        or group.sweep_failures >= TRIES
        or group.kernel.now() >= group.sweep_until
    )
    sweep = not served and not hopeless and group.sockets.is_waited_for()
    if sweep != goal.sweep:
        group.goal = replace(goal, sweep=sweep)


def drop(group: Group, keys: Iterable[str]) -> None:
    """Let go of addresses: nothing new gets in, and what waits in their queues is handed on."""
    dropped = [one for key in keys for one in group.sockets.groups[key]]
    refuse_newcomers(group, dropped)
    for one in dropped:
        one.dropped = True
        group.note(Kind.UNBOUND, address=one.name)
    hand_on_queues(group)


def hand_on_queues(group: Group) -> None:
    """Have a ready worker accept what waits in dropped listeners, and close them.

    Where no worker is ready and connections wait, this is tried again each turn.
    """
    dropped = group.sockets.dropped()
    if not dropped:
        return
    for batch in batched(dropped, MAX_FDS):
        # A program of a command group accepts by itself, and was never ready for more.
        serves = group.roster.ever_ready and not group.is_command
        if serves and not _hand_on(group, batch):
            break
        group.sockets.close(batch)
    tell_sockets(group.cluster)


def _hand_on(group: Group, listeners: list[Listener]) -> bool:
    """Give listeners to a worker; False where that cannot be now, and connections wait there."""
    ready = [w for w in group.roster.live() if w.phase is Phase.READY]
    # One that stands still would accept them when it is too late.
    ready.sort(key=lambda worker: worker.condition in STANDING)
    names = [one.name for one in listeners]
    for worker in ready:
        channel = group.handles[worker.row].channel
        if channel.send(Empty(names), [one.sock.fileno() for one in listeners]):
            return True
    return not any(one.is_waited_for() for one in listeners)


def count_failure(group: Group) -> None:
    """Count a worker or zygote that ended: an application that cannot start, or a queue that
    cannot be emptied, shall not hold a stop up."""
    if group.goal.mode is Mode.STOPPING:
        group.sweep_failures += 1


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
    reasons = group.sockets.refuse_newcomers(listeners)
    if not group.roster.ever_ready:
        return  # it has served no client
    for reason in reasons:
        group.note(Kind.TROUBLE, reason=reason, next="who comes now may be reset")


def tell_sockets(cluster: Cluster) -> None:
    """Have every zygote know which socket files to remove, should we be killed."""
    for group in cluster.groups.values():
        for channel in group.zygote_channels.values():
            channel.send(Sockets(cluster.files()))
