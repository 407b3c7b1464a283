"""Do what the plan says: one function an action, found by its type."""

import os
import signal
import socket
from collections.abc import Callable
from math import inf
from typing import Any

from clusterd.core.events import Kind
from clusterd.fleet.goal import Mode
from clusterd.fleet.lifecycle import Cue, Phase, step
from clusterd.fleet.plan import (
    Action,
    DismissZygote,
    Kill,
    KillZygote,
    Renew,
    Retire,
    Spawn,
    StartZygote,
)
from clusterd.fleet.roster import Worker, Zygote, ZygotePhase
from clusterd.ipc.channel import Channel
from clusterd.ipc.messages import Boot, Drain, Leave, Quit
from clusterd.ipc.messages import Spawn as SpawnOrder
from clusterd.kernel.child import argv
from clusterd.master import absorb, reload
from clusterd.master.cluster import Cluster, Handles, Pipe

NO_ROW = 5.0  # seconds until a worker is ordered again after there was no row for it
QUICK = 1.0  # seconds that a worker has to leave when it is to leave at once


def perform(cluster: Cluster, action: Action) -> None:
    """Carry out one action. Nothing here raises for what the operating system refuses."""
    TABLE[type(action)](cluster, action)


def _child(cluster: Cluster, role: str, end: socket.socket) -> int:
    return cluster.kernel.spawn(argv(role, end), [end.fileno()], cluster.directory)


def _boot(cluster: Cluster, channel: Channel, generation: int) -> None:
    config = cluster.configs[generation].to_wire()
    message = Boot(generation, config, cluster.files())
    bundle = cluster.bundles.get(generation)
    fds = [bundle.fd] if bundle is not None else []
    channel.send(message, [cluster.board.fd, cluster.log_fd, *fds])


def start_zygote(cluster: Cluster, action: StartZygote) -> None:
    generation, now = action.generation, cluster.kernel.now()
    try:
        pid, channel = _fresh_zygote(cluster)
    except OSError as error:
        _zygote_unborn(cluster, generation, error)
        return
    deadline = now + cluster.patience.startup
    zygote = Zygote(generation, pid, now, deadline)
    cluster.roster.zygotes.append(zygote)
    cluster.zygote_channels[pid] = channel
    try:
        cluster.kernel.watch(channel, ("zygote", pid))
    except OSError as error:  # we would never hear of it
        zygote.phase, zygote.deadline = ZygotePhase.DISMISSED, inf
        cluster.kernel.kill(pid, signal.SIGKILL)
        _zygote_unborn(cluster, generation, error)
        return
    _boot(cluster, channel, generation)
    cluster.note(Kind.ZYGOTE_SPAWNED, generation=generation, pid=pid)


def _fresh_zygote(cluster: Cluster) -> tuple[int, Channel]:
    """The one that was started ahead, or a new one. Raises OSError."""
    ahead, cluster.ahead = cluster.ahead, None
    if ahead is not None:
        ahead.taken = True
        return ahead.pid, Channel(ahead.sock)
    ours, theirs = cluster.kernel.pair()
    try:
        return _child(cluster, "zygote", theirs), Channel(ours)
    except OSError:
        ours.close()
        raise
    finally:
        theirs.close()


def _zygote_unborn(cluster: Cluster, generation: int, error: OSError) -> None:
    wait = cluster.roster.importing.died(cluster.kernel.now(), 0.0, cluster.jitter())
    reason = f"no process for a zygote: {error.strerror}"
    cluster.note(Kind.SPAWN_FAILED, generation=generation, reason=reason, retry_in=round(wait, 3))


def dismiss_zygote(cluster: Cluster, action: DismissZygote) -> None:
    zygote = action.zygote
    loading = zygote.phase is ZygotePhase.LOADING
    zygote.phase = ZygotePhase.DISMISSED
    zygote.deadline = cluster.kernel.now() + cluster.patience.dismissal
    if loading or not cluster.zygote_channels[zygote.pid].send(Leave()):
        cluster.kernel.kill(zygote.pid, signal.SIGKILL)  # it does not listen while it imports


def kill_zygote(cluster: Cluster, action: KillZygote) -> None:
    zygote = action.zygote
    if zygote.deadline == inf and zygote.phase is ZygotePhase.DISMISSED:
        return  # killed already: several orders were overdue
    if zygote.phase is not ZygotePhase.DISMISSED:
        loading = zygote.phase is ZygotePhase.LOADING
        absorb.blame(cluster, zygote.generation, f"zygote: {action.why}", loading)
    zygote.phase, zygote.deadline = ZygotePhase.DISMISSED, inf
    cluster.kernel.kill(zygote.pid, signal.SIGKILL)
    cluster.note(Kind.KILLED, generation=zygote.generation, pid=zygote.pid, reason=action.why)


def spawn(cluster: Cluster, action: Spawn) -> None:
    """Order a worker: from its zygote, or as a process of its own where forking is not safe."""
    zygote, row = cluster.roster.zygote(action.generation), cluster.order_row()
    if zygote is None:
        return
    if row is None:
        no_row(cluster, action)
        return
    worker = Worker(row, action.slot, action.generation, *(cluster.kernel.now(),) * 2)
    try:
        dump_read, dump_write = cluster.kernel.pipe()
        try:
            ours, theirs = cluster.kernel.pair()
        except OSError:
            os.close(dump_read)
            os.close(dump_write)
            raise
    except OSError as error:
        absorb.unspawned(cluster, worker, str(error))
        return
    channel = Channel(ours)
    cluster.roster.workers[row] = worker
    cluster.handles[row] = Handles(channel, dump_read)
    try:
        cluster.kernel.watch(channel, ("worker", row))
        cluster.kernel.watch(Pipe(dump_read), ("dump", row))
        _order(cluster, worker, zygote, channel, [theirs.fileno(), dump_write])
    except OSError as error:
        absorb.unspawned(cluster, worker, str(error))
    finally:
        theirs.close()  # or a newborn that never was would not be EOF here
        os.close(dump_write)


def no_row(cluster: Cluster, action: Spawn) -> None:
    """All rows are taken, most by workers that drain: wait for them, and do not try meanwhile."""
    reason, tally = "all rows of the scoreboard are taken", cluster.roster.slot(action.slot)
    tally.until = max(tally.until, cluster.kernel.now() + NO_ROW)
    absorb.blame(cluster, action.generation, reason)
    identity = {"slot": action.slot, "generation": action.generation}
    cluster.note(Kind.SPAWN_FAILED, **identity, reason=reason, retry_in=NO_ROW)


def _order(
    cluster: Cluster, worker: Worker, zygote: Zygote, channel: Channel, fds: list[int]
) -> None:
    settings = cluster.configs[worker.generation].listen
    listeners = cluster.sockets.of_slot(worker.slot, settings)
    order = SpawnOrder(worker.slot, worker.row, worker.generation, [one.name for one in listeners])
    fds = [*fds, *(end.fileno() for end in cluster.handover)]
    fds += [one.sock.fileno() for one in listeners]
    if zygote.unsafe:
        theirs = socket.socket(fileno=os.dup(fds[0]))
        with theirs:
            worker.pid = _child(cluster, "worker", theirs)
        worker.deadline = worker.born + cluster.patience.startup
        _boot(cluster, channel, worker.generation)
        channel.send(order, fds)
    else:
        worker.deadline = worker.born + cluster.patience.spawn
        if not cluster.zygote_channels[zygote.pid].send(order, fds):
            raise OSError("the zygote takes no orders")
    cluster.note(Kind.SPAWNED, slot=worker.slot, generation=worker.generation, row=worker.row)


def retire(cluster: Cluster, action: Retire) -> None:
    worker = cluster.roster.workers.get(action.row)
    if worker is None or not worker.live:
        return  # killed by the same plan, since its time was up as well
    now, patience = cluster.kernel.now(), cluster.patience
    booting = worker.phase is Phase.BOOTING
    worker.phase, worker.since, worker.asked = step(worker.phase, Cue.RETIRED), now, True
    cluster.note(Kind.RETIRED, **cluster.identity(worker), reason=action.why)
    channel = cluster.handles[worker.row].channel
    if cluster.goal.quick:
        worker.deadline = now + QUICK
        channel.send(Quit())
        return
    worker.deadline = now + (patience.boot_stop if booting else patience.graceful)
    worker.deadline += patience.overtime
    stopping = cluster.goal.mode is Mode.STOPPING
    sibling = any(w.phase is Phase.READY for w in cluster.roster.workers.values())
    channel.send(
        Drain(
            why=action.why,
            within=patience.graceful,
            last=stopping,
            handover=sibling and cluster.goal.mode is Mode.SERVING,
        )
    )


def kill(cluster: Cluster, action: Kill) -> None:
    worker = cluster.roster.workers[action.row]
    cluster.note(Kind.KILLED, **cluster.identity(worker), reason=action.why)
    if not worker.asked:
        absorb.blame(cluster, worker.generation, f"worker {worker.slot}: {action.why}")
    worker.phase, worker.since = step(worker.phase, Cue.OVERDUE), cluster.kernel.now()
    worker.deadline = inf
    if worker.pid is None:
        absorb.unspawned(cluster, worker, action.why)
    else:
        cluster.kernel.kill(worker.pid, signal.SIGKILL)


def renew(cluster: Cluster, _action: Renew) -> None:
    cluster.roster.renewing.died(cluster.kernel.now(), 0.0, cluster.jitter())  # until one works
    reload.begin_quietly(cluster, "the code of the serving generation is no longer on disk")


TABLE: dict[type[Action], Callable[[Cluster, Any], None]] = {
    StartZygote: start_zygote,
    DismissZygote: dismiss_zygote,
    KillZygote: kill_zygote,
    Spawn: spawn,
    Retire: retire,
    Kill: kill,
    Renew: renew,
}
