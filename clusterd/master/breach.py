"""A worker or zygote that breaks the rules of its channel: it is killed, reported and replaced.

Its fault is no fault of ours: the loop does not rest after it, and others are heard as before. A
process is killed only if it is our child and not yet reaped, so that no other can have its pid.
"""

import signal
from math import inf

from clusterd.core.events import Kind
from clusterd.fleet.lifecycle import Cue, Phase, step
from clusterd.fleet.roster import Worker, Zygote, ZygotePhase
from clusterd.ipc.messages import Hello, Message
from clusterd.master import absorb, orphans
from clusterd.master.cluster import Cluster
from clusterd.master.group import Group


def doubt(group: Group, worker: Worker, message: Message, sender: int) -> str:
    """Say why a worker's message is not what it seems, or ''.

    What the application's code says of pids is not believed: the master may be root, and signals
    and waits for the pids of its workers. `sender` is the kernel's word.
    """
    if not isinstance(message, Hello):
        early = worker.pid is None
        return f"{type(message).__name__} came before hello" if early else ""
    if message.pid != sender:
        return f"process {sender} said hello as process {message.pid}"
    said = (message.slot, message.row, message.generation)
    if said != (worker.slot, worker.row, worker.generation):
        return f"process {sender} said hello as another worker"
    if worker.pid is not None:  # known of one that was not forked
        return "" if worker.pid == sender else f"process {sender} said hello for {worker.pid}"
    if sender in orphans.ours(group.cluster):
        return f"process {sender} said hello, which is known already"
    if not group.kernel.is_child(sender):
        return f"process {sender} said hello, which is no child of the master"
    return ""


def breached(group: Group, speaker: Worker | Zygote, reason: str, sender: int = 0) -> None:
    """Report and kill a speaker; and the process that sent this, if it is another one of ours."""
    if speaker.pid != sender:
        _kill_sender(group.cluster, sender, reason)
    if isinstance(speaker, Zygote):
        _end_zygote(group, speaker, reason)
    else:
        _end_worker(group, speaker, reason, sender)


def _end_worker(group: Group, worker: Worker, reason: str, sender: int) -> None:
    if worker.phase in (Phase.KILLED, Phase.GONE):
        return
    other = {"sender": sender} if sender not in (0, worker.pid) else {}
    group.note(Kind.BREACH, **group.identity(worker), **other, reason=reason)
    end_worker(group, worker, reason)


def end_worker(group: Group, worker: Worker, reason: str) -> None:
    """Kill a worker and replace it, with a back-off where it was young.

    First the signal: where a worker reads the end of its channel, it takes the master for gone, and
    closes the listeners to newcomers for all that share them.
    """
    if worker.pid is None:
        group.close_channel(worker.row)
        absorb.unspawned(group, worker, reason)
        return
    group.kernel.kill(worker.pid, signal.SIGKILL)
    group.close_channel(worker.row)
    uptime = group.kernel.now() - worker.since if worker.phase is Phase.READY else 0.0
    worker.phase, worker.deadline = step(worker.phase, Cue.BREACHED), inf
    if worker.asked:
        return
    worker.asked = True  # by us; what follows from its end follows now
    group.restarts[worker.slot] = group.restarts.get(worker.slot, 0) + 1
    absorb.blame(group, worker.generation, f"worker {worker.slot}: {reason}")
    absorb.back_off(group, worker, uptime)


def _end_zygote(group: Group, zygote: Zygote, reason: str) -> None:
    channel = group.zygote_channels[zygote.pid]
    if channel.fileno() < 0:
        return
    identity = {"generation": zygote.generation, "pid": zygote.pid}
    group.note(Kind.BREACH, **identity, reason=reason)
    group.kernel.kill(zygote.pid, signal.SIGKILL)  # first: at the end of its channel it would
    group.kernel.unwatch(channel)  # take the master for gone, and end its workers
    channel.close()
    if zygote.phase is ZygotePhase.DISMISSED:
        return
    loading = zygote.phase is ZygotePhase.LOADING
    absorb.blame(group, zygote.generation, f"zygote: {reason}", loading)
    now = group.kernel.now()
    uptime = 0.0 if loading else now - zygote.since
    group.roster.importing.died(now, uptime, group.cluster.jitter())
    zygote.phase, zygote.deadline = ZygotePhase.DISMISSED, inf


def _kill_sender(cluster: Cluster, sender: int, reason: str) -> None:
    """Kill the process that spoke for another, where it is a child of ours."""
    for group in cluster.groups.values():
        worker = group.roster.by_pid(sender) if sender else None
        if worker is not None:
            _end_worker(group, worker, reason, sender)
            return
        for zygote in group.roster.zygotes:
            if zygote.pid == sender:
                _end_zygote(group, zygote, reason)
                return
    if cluster.kernel.is_child(sender):
        cluster.kernel.kill(sender, signal.SIGKILL)
