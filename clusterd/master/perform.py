"""Do what the plan says: one function an action, found by its type."""

import os
import signal
import socket
from collections.abc import Callable
from dataclasses import replace
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
from clusterd.ipc.channel import MasterChannel
from clusterd.ipc.messages import Boot, Drain, Lasting, Leave, Quit
from clusterd.ipc.messages import Spawn as SpawnOrder
from clusterd.ipc.scoreboard import layout
from clusterd.master import absorb, children, program_locks, reload, vitals
from clusterd.master.group import Group, Handles, Pipe

NO_ROW = 5.0  # seconds until a worker is ordered again after there was no row for it
LEAST_TO_SWEEP = 1.0  # seconds for a worker that a stop started to empty the accept queues
QUICK = 1.0  # seconds that a worker has to leave when it is to leave at once


def perform(group: Group, action: Action) -> None:
    """Carry out one action. Nothing here raises for what the operating system refuses."""
    TABLE[type(action)](group, action)


def _child(group: Group, role: str, end: socket.socket, generation: int) -> int:
    return children.start(group.cluster, role, end, group.configs[generation].limits)


def _boot(group: Group, channel: MasterChannel, generation: int, bare: bool = False) -> None:
    config = group.configs[generation]
    if bare:
        config = replace(config, app=replace(config.app, preload="never"))
    message = Boot(group.name, generation, config.to_wire(), group.cluster.files(), layout())
    bundle = group.bundles.get(generation)
    fds = [bundle.fd] if bundle is not None else []
    channel.send(message, [group.board.fd, group.cluster.log_fd, *fds])


def start_zygote(group: Group, action: StartZygote) -> None:
    generation, now = action.generation, group.kernel.now()
    bare = generation in group.roster.unsafe or group.configs[generation].app.preload == "never"
    try:
        pid, channel = _fresh_zygote(group, generation, bare)
    except OSError as error:
        _zygote_unborn(group, generation, error)
        return
    deadline = now + group.patience.startup
    zygote = Zygote(generation, pid, now, deadline, bare=bare)
    group.roster.zygotes.append(zygote)
    group.zygote_channels[pid] = channel
    try:
        group.kernel.watch(channel, ("zygote", group.name, pid))
    except OSError as error:  # we would never hear of it
        zygote.phase, zygote.deadline = ZygotePhase.DISMISSED, inf
        group.kernel.kill(pid, signal.SIGKILL)
        _zygote_unborn(group, generation, error)
        return
    _boot(group, channel, generation, bare)
    group.note(Kind.ZYGOTE_SPAWNED, generation=generation, pid=pid)


def _fresh_zygote(group: Group, generation: int, bare: bool) -> tuple[int, MasterChannel]:
    """Return the zygote that was started ahead, or start one. Raises OSError."""
    ahead = None if group.is_command or bare else group.cluster.ahead
    if ahead is not None and children.fits(ahead, group.configs[generation].limits):
        group.cluster.ahead = None
        ahead.taken = True
        return ahead.pid, MasterChannel(ahead.sock)
    ours, theirs = group.kernel.pair()
    try:
        return _child(group, "zygote", theirs, generation), MasterChannel(ours)
    except OSError:
        ours.close()
        raise
    finally:
        theirs.close()


def _zygote_unborn(group: Group, generation: int, error: OSError) -> None:
    wait = group.roster.importing.died(group.kernel.now(), 0.0, group.cluster.jitter())
    reason = f"no process for a zygote: {error.strerror}"
    group.note(Kind.SPAWN_FAILED, generation=generation, reason=reason, retry_in=round(wait, 3))


def dismiss_zygote(group: Group, action: DismissZygote) -> None:
    zygote = action.zygote
    loading = zygote.phase is ZygotePhase.LOADING
    zygote.phase = ZygotePhase.DISMISSED
    zygote.deadline = group.kernel.now() + group.patience.dismissal
    if loading or not group.zygote_channels[zygote.pid].send(Leave()):
        group.kernel.kill(zygote.pid, signal.SIGKILL)  # it does not listen while it imports


def kill_zygote(group: Group, action: KillZygote) -> None:
    zygote = action.zygote
    if zygote.deadline == inf and zygote.phase is ZygotePhase.DISMISSED:
        return  # killed already: several orders were overdue
    why = action.why
    if zygote.phase is not ZygotePhase.DISMISSED:
        loading = zygote.phase is ZygotePhase.LOADING
        absorb.blame(group, zygote.generation, f"zygote: {action.why}", loading)
        if loading:
            why += vitals.had(group, zygote)
    zygote.phase, zygote.deadline = ZygotePhase.DISMISSED, inf
    group.kernel.kill(zygote.pid, signal.SIGKILL)
    group.note(Kind.KILLED, generation=zygote.generation, pid=zygote.pid, reason=why)


def spawn(group: Group, action: Spawn) -> None:
    """Order a worker: from its zygote, or as a process of its own where forking is not safe."""
    zygote, row = group.roster.zygote(action.generation), group.order_row()
    if zygote is None and action.generation not in group.roster.unsafe:
        return
    if row is None:
        no_row(group, action)
        return
    worker = Worker(row, action.slot, action.generation, *(group.kernel.now(),) * 2)
    try:
        dump_read, dump_write = group.kernel.pipe()
        try:
            ours, theirs = group.kernel.pair()
        except OSError:
            os.close(dump_read)
            os.close(dump_write)
            raise
    except OSError as error:
        absorb.unspawned(group, worker, str(error))
        return
    channel = MasterChannel(ours)
    group.roster.workers[row] = worker
    group.handles[row] = Handles(channel, dump_read)
    lock = program_locks.NONE
    try:
        group.kernel.watch(channel, ("worker", group.name, row))
        group.kernel.watch(Pipe(dump_read), ("dump", group.name, row))
        lock = program_locks.open_lock(group, worker.generation, worker.slot)
        _order(group, worker, zygote, channel, [theirs.fileno(), dump_write], lock)
    except OSError as error:
        absorb.unspawned(group, worker, str(error))
    finally:
        theirs.close()  # or a newborn that never was would not be EOF here
        os.close(dump_write)
        if lock != program_locks.NONE:
            os.close(lock)


def no_row(group: Group, action: Spawn) -> None:
    """All rows are taken, most by workers that drain: wait for them, and do not try meanwhile."""
    reason, tally = "all rows of the scoreboard are taken", group.roster.slot(action.slot)
    tally.until = max(tally.until, group.kernel.now() + NO_ROW)
    absorb.blame(group, action.generation, reason)
    identity = {"slot": action.slot, "generation": action.generation}
    group.note(Kind.SPAWN_FAILED, **identity, reason=reason, retry_in=NO_ROW)


def _order(
    group: Group,
    worker: Worker,
    zygote: Zygote | None,
    channel: MasterChannel,
    fds: list[int],
    lock: int,
) -> None:
    settings = group.configs[worker.generation].listen
    listeners = group.sockets.of_slot(worker.slot, settings)
    names = [one.name for one in listeners]
    locked = lock != program_locks.NONE
    order = SpawnOrder(worker.slot, worker.row, worker.generation, names, locked)
    fds = [*fds, *(end.fileno() for end in group.handover), *([lock] if locked else [])]
    fds += [one.sock.fileno() for one in listeners]
    if zygote is not None and zygote.unsafe and not zygote.bare:
        _promote(group, worker, zygote, order, fds)
    elif zygote is None or zygote.bare:
        theirs = socket.socket(fileno=os.dup(fds[0]))
        with theirs:
            worker.pid = _child(group, "worker", theirs, worker.generation)
        worker.deadline = worker.born + group.patience.startup
        _boot(group, channel, worker.generation)
        channel.send(order, fds)
    else:
        worker.deadline = worker.born + group.patience.spawn
        if not group.zygote_channels[zygote.pid].send(order, fds):
            raise OSError("the zygote takes no orders")
    lasting = [one.name for one in listeners if one.inherited or one.kept]
    if lasting and not group.is_command:
        channel.send(Lasting(lasting))
    group.note(Kind.SPAWNED, slot=worker.slot, generation=worker.generation, row=worker.row)


def _promote(
    group: Group, worker: Worker, zygote: Zygote, order: SpawnOrder, fds: list[int]
) -> None:
    """Have a zygote that cannot be forked become the worker. Raises OSError.

    So the import that found this out is not done in vain. The zygote closes its end of our
    channel too; a bare one is started in its place.
    """
    channel = group.zygote_channels[zygote.pid]
    if not channel.send(order, fds):
        raise OSError("the zygote takes no orders")
    worker.pid, worker.deadline = zygote.pid, worker.born + group.patience.startup
    group.roster.zygotes.remove(zygote)
    del group.zygote_channels[zygote.pid]
    group.kernel.unwatch(channel)
    channel.close()


def retire(group: Group, action: Retire) -> None:
    worker = group.roster.workers.get(action.row)
    if worker is None or not worker.live:
        return  # killed by the same plan, since its time was up as well
    now, patience = group.kernel.now(), group.patience
    booting = worker.phase is Phase.BOOTING
    worker.phase, worker.since, worker.asked = step(worker.phase, Cue.RETIRED), now, True
    group.note(Kind.RETIRED, **group.identity(worker), reason=action.why)
    if action.why == "recycled":
        group.recycled[worker.slot] = group.recycled.get(worker.slot, 0) + 1
    channel = group.handles[worker.row].channel
    if group.goal.quick:
        worker.deadline = now + QUICK
        channel.send(Quit())
        return
    within = min(patience.boot_stop, patience.graceful) if booting else patience.graceful
    if worker.born >= group.stop_began:  # it was started to empty the queues: there is less time
        within = max(LEAST_TO_SWEEP, min(within, group.sweep_until - now))
    worker.deadline = now + within + patience.overtime
    worker.deadline = vitals.time_to_drain(group, worker, worker.deadline)
    stopping = group.goal.mode is Mode.STOPPING
    worker.sweeps = stopping and not booting
    if worker.sweeps:
        group.sockets.mark_served()
    sibling = any(w.phase is Phase.READY for w in group.roster.workers.values())
    channel.send(
        Drain(
            why=action.why,
            within=within,
            last=stopping,
            handover=sibling and group.goal.mode is Mode.SERVING,
        )
    )


def kill(group: Group, action: Kill) -> None:
    worker = group.roster.workers[action.row]
    why = action.why
    if worker.phase is Phase.BOOTING:
        why += vitals.had(group, worker)
    group.note(Kind.KILLED, **group.identity(worker), reason=why)
    if not worker.asked:
        absorb.blame(group, worker.generation, f"worker {worker.slot}: {action.why}")
    worker.phase, worker.since = step(worker.phase, Cue.OVERDUE), group.kernel.now()
    worker.deadline = inf
    if worker.pid is None:
        absorb.unspawned(group, worker, action.why)
    else:
        group.kernel.kill(worker.pid, signal.SIGKILL)


def renew(group: Group, _action: Renew) -> None:
    group.roster.renewing.died(group.kernel.now(), 0.0, group.cluster.jitter())  # until one works
    reason = "the code of the serving generation is no longer on disk"
    reload.renew(group, reason)


TABLE: dict[type[Action], Callable[[Group, Any], None]] = {
    StartZygote: start_zygote,
    DismissZygote: dismiss_zygote,
    KillZygote: kill_zygote,
    Spawn: spawn,
    Retire: retire,
    Kill: kill,
    Renew: renew,
}
