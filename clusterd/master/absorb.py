"""Take facts in: what processes said, who died, what came through a dump pipe."""

import os
import signal
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from clusterd.core.errors import Bug
from clusterd.core.events import Kind
from clusterd.fleet.lifecycle import Cue, Phase, step
from clusterd.fleet.roster import Worker, Zygote, ZygotePhase
from clusterd.ipc.channel import Channel, Closed, close_all
from clusterd.ipc.messages import (
    Certified,
    Draining,
    Dumped,
    Failed,
    Hello,
    Leaving,
    Loaded,
    Message,
    Ready,
    Unspawned,
)
from clusterd.kernel.real import Death
from clusterd.master import certificates
from clusterd.master.cluster import Cluster, Dump, Pipe

DUMP_PIECE = 64 * 1024  # bytes; a stack of 100 frames has some 8 KiB
QUIET = 0.1  # seconds without another piece after which faulthandler's dump is whole


def listen_to(cluster: Cluster, channel: Channel, speaker: Worker | Zygote) -> bool:
    """Take in all that a process has said so far; False once it closed its end."""
    received: object = None
    while not isinstance(received, Closed):
        try:
            received = channel.receive(block=False)
        except Bug as error:  # an app that writes to what it inherited: that packet is gone
            cluster.trouble(error)
            continue
        if received is None:
            return True
        if not isinstance(received, Closed):
            cluster.guard(_hear, cluster, speaker, *received)
    return False


def _hear(cluster: Cluster, speaker: Worker | Zygote, message: Message, fds: list[int]) -> None:
    close_all(fds)  # nobody sends the master descriptors
    hear = TABLE.get(type(message))
    if hear is None:
        raise Bug(f"the master was sent {type(message).__name__}")
    hear(cluster, speaker, message)


def worker_spoke(cluster: Cluster, row: int) -> None:
    """A worker's channel is readable. EOF before hello means that it was never born."""
    worker, handles = cluster.roster.workers.get(row), cluster.handles.get(row)
    if worker is None or handles is None or handles.channel.fileno() < 0:
        return
    if not listen_to(cluster, handles.channel, worker):
        if worker.pid is None:
            unspawned(cluster, worker, "it ended before it said hello")
        else:
            cluster.close_channel(row)  # its wait status is what counts, and will come


def zygote_spoke(cluster: Cluster, pid: int) -> None:
    """A zygote's channel is readable."""
    zygote = next((z for z in cluster.roster.zygotes if z.pid == pid), None)
    channel = cluster.zygote_channels.get(pid)
    if zygote is None or channel is None:
        return
    if not listen_to(cluster, channel, zygote):
        cluster.kernel.unwatch(channel)
        # Its death follows; if the import only closed the channel, it is of no use to us.
        patience = cluster.kernel.now() + cluster.patience.dismissal
        zygote.deadline = min(zygote.deadline, patience)


def hello(cluster: Cluster, worker: Worker, message: Hello) -> None:
    worker.pid = message.pid
    if worker.phase is Phase.BOOTING:
        worker.deadline = worker.born + cluster.patience.startup
    if worker.phase is Phase.KILLED:
        cluster.kernel.kill(message.pid, signal.SIGKILL)


def ready(cluster: Cluster, worker: Worker, message: Ready) -> None:
    after = step(worker.phase, Cue.READIED)
    if after is worker.phase:
        return
    now = cluster.kernel.now()
    worker.phase, worker.since, worker.deadline = after, now, float("inf")
    worker.accepting = True
    swept(cluster)
    took = round(now - worker.born, 3)
    cluster.note(Kind.READIED, **cluster.identity(worker), seconds=took)
    cluster.roster.ever_ready = True
    goal = cluster.goal
    if worker.generation == goal.candidate and not goal.proven:
        cluster.note(Kind.CANARY_READIED, **cluster.identity(worker))
    holding = {w.slot for w in cluster.roster.live() if w.phase is Phase.READY}
    if not cluster.announced and holding >= set(range(goal.size)):
        cluster.announced = True
        seconds = round(now - cluster.started, 3)
        cluster.note(Kind.READY, workers=goal.size, seconds=seconds, generation=goal.stable)


def swept(cluster: Cluster) -> None:
    """The last worker of a stop in a pause is there, and empties the queues; or cannot be had."""
    if cluster.goal.sweep:
        cluster.goal = replace(cluster.goal, sweep=False)


def leaving(cluster: Cluster, worker: Worker, message: Leaving) -> None:
    if worker.leaving:
        return
    worker.leaving = worker.asked = True
    cluster.note(Kind.LEAVING, **cluster.identity(worker), reason=message.reason)
    now = cluster.kernel.now()
    uptime = now - worker.since if worker.phase is Phase.READY else 0.0
    back_off(cluster, worker, uptime)  # or one that leaves as soon as it is ready would spin


def draining(_cluster: Cluster, worker: Worker, _message: Draining) -> None:
    worker.accepting = False


def dumped(cluster: Cluster, worker: Worker, message: Dumped) -> None:
    cluster.dumps.pop(worker.row, None)
    cluster.note(Kind.DUMPED, **cluster.identity(worker), by="worker", traceback=message.text)


def failed(cluster: Cluster, speaker: Worker | Zygote, message: Failed) -> None:
    generation = speaker.generation
    cluster.tracebacks[generation] = message.traceback
    importing = message.stage == "import"
    blame(cluster, generation, f"{message.stage} failed: {message.reason}", importing)
    kind = Kind.ZYGOTE_FAILED if isinstance(speaker, Zygote) else Kind.WORKER_FAILED
    identity = {"generation": generation, "pid": speaker.pid}
    if isinstance(speaker, Worker):
        identity = cluster.identity(speaker)
    why = {"stage": message.stage, "reason": message.reason, "traceback": message.traceback}
    cluster.note(kind, **identity, **why)


def loaded(cluster: Cluster, zygote: Zygote, message: Loaded) -> None:
    if zygote.phase is not ZygotePhase.LOADING:
        return
    zygote.phase, zygote.deadline = ZygotePhase.LOADED, float("inf")
    zygote.since, zygote.unsafe = cluster.kernel.now(), message.unsafe
    known = cluster.fingerprints.get(zygote.generation)
    if message.fingerprint and known not in (None, message.fingerprint):
        _changed_on_disk(cluster, zygote)
    cluster.fingerprints[zygote.generation] = message.fingerprint
    cluster.note(
        Kind.ZYGOTE_READIED,
        generation=zygote.generation,
        pid=zygote.pid,
        seconds=round(message.seconds, 3),
        **({"import_per_worker": message.unsafe} if message.unsafe else {}),
    )


def _changed_on_disk(cluster: Cluster, zygote: Zygote) -> None:
    """A rebuilt zygote found other code than the one that died: that is a new generation.

    It goes through the canary like any other; the generation it was meant for has no code left.
    """
    from_generation = zygote.generation
    cluster.roster.lost.add(from_generation)
    if cluster.goal.candidate is not None:
        return  # a rollout is under way: the plan dismisses this one or asks for another
    config, bundle = cluster.configs[from_generation], cluster.bundles.get(from_generation)
    zygote.generation = cluster.next_generation(config, bundle)
    cluster.goal = cluster.goal.rolling(zygote.generation)
    reason = "the code on disk changed since the zygote that died"
    cluster.note(
        Kind.ROLLOUT_STARTED, generation=zygote.generation, previous=from_generation, reason=reason
    )


def certified(cluster: Cluster, speaker: Worker | Zygote, message: Certified) -> None:
    generation = speaker.generation
    if message.fault and not message.number:  # those that it was to begin with
        cluster.misconfigured.add(generation)
        blame(cluster, generation, message.fault, importing=True)
        identity = {"generation": generation, "pid": speaker.pid}
        why = {"reason": message.fault, "remedy": message.remedy}
        cluster.note(Kind.ZYGOTE_FAILED, **identity, stage="certificates", **why)
    certificates.certified(cluster, speaker, message)


def said_unspawned(cluster: Cluster, _zygote: Zygote, message: Unspawned) -> None:
    worker = cluster.roster.workers.get(message.row)
    if worker is not None and worker.pid is None:
        unspawned(cluster, worker, message.reason)


TABLE: dict[type[Message], Callable[[Cluster, Any, Any], None]] = {
    Hello: hello,
    Ready: ready,
    Leaving: leaving,
    Draining: draining,
    Dumped: dumped,
    Failed: failed,
    Loaded: loaded,
    Unspawned: said_unspawned,
    Certified: certified,
}


def unspawned(cluster: Cluster, worker: Worker, reason: str) -> None:
    """A worker was ordered and never came to be: back off its slot."""
    swept(cluster)
    wait = 0.0
    if not worker.asked:
        tally = cluster.roster.slot(worker.slot)
        wait = tally.died(cluster.kernel.now(), 0.0, cluster.jitter(), unborn=True)
        blame(cluster, worker.generation, f"no worker could be started: {reason}")
    worker.phase = Phase.GONE
    cluster.note(
        Kind.SPAWN_FAILED,
        slot=worker.slot,
        generation=worker.generation,
        reason=reason,
        retry_in=round(wait, 3),
    )
    cluster.forget(worker)


def blame(cluster: Cluster, generation: int, reason: str, importing: bool = False) -> None:
    """A generation failed. It counts while it rolls in; at first start, if it was the import."""
    first = not cluster.roster.ever_ready and generation == cluster.goal.stable
    if generation == cluster.goal.candidate or (first and importing):
        cluster.roster.faults.setdefault(generation, reason)


def died(cluster: Cluster, death: Death) -> None:
    """A child was reaped. Strangers (what the app left behind) are only reaped."""
    worker = cluster.roster.by_pid(death.pid)
    if worker is not None:
        _worker_died(cluster, worker, death.code)
        return
    for zygote in cluster.roster.zygotes:
        if zygote.pid == death.pid:
            _zygote_died(cluster, zygote, death.code)
            return


def _worker_died(cluster: Cluster, worker: Worker, code: int) -> None:
    # Its last words explain its death; but whatever they are, a reaped pid leaves the roster.
    cluster.guard(worker_spoke, cluster, worker.row)
    cluster.guard(dump_arrived, cluster, worker.row)
    if worker.row in cluster.dumps and cluster.dumps[worker.row].text:
        dump_over(cluster, worker.row)
    swept(cluster)
    now, was = cluster.kernel.now(), worker.phase
    uptime = now - worker.since if was is Phase.READY else 0.0
    worker.phase = step(was, Cue.EXITED)
    fault = not worker.asked
    cluster.note(
        Kind.EXITED,
        **cluster.identity(worker),
        code=code,
        cause=cause(code),
        uptime=round(now - worker.born, 3),
        asked=worker.asked,
        **({"fault": True} if fault else {}),
    )
    cluster.forget(worker)
    if not fault:
        return
    cluster.restarts[worker.slot] = cluster.restarts.get(worker.slot, 0) + 1
    blame(cluster, worker.generation, f"worker {worker.slot} ended while {was}: {cause(code)}")
    back_off(cluster, worker, uptime)


def back_off(cluster: Cluster, worker: Worker, uptime: float) -> None:
    """A worker went by its own will or fault: if it was young, its slot's next one waits."""
    tally = cluster.roster.slot(worker.slot)
    wait = tally.died(cluster.kernel.now(), uptime, cluster.jitter())
    if wait:
        retry = {"deaths": tally.deaths, "retry_in": round(wait, 3)}
        cluster.note(Kind.BACKED_OFF, slot=worker.slot, generation=worker.generation, **retry)


def _zygote_died(cluster: Cluster, zygote: Zygote, code: int) -> None:
    cluster.guard(zygote_spoke, cluster, zygote.pid)
    cluster.roster.zygotes.remove(zygote)
    swept(cluster)
    channel = cluster.zygote_channels.pop(zygote.pid)
    cluster.kernel.unwatch(channel)
    channel.close()
    asked = zygote.phase is ZygotePhase.DISMISSED
    identity = {"generation": zygote.generation, "pid": zygote.pid}
    cluster.note(Kind.ZYGOTE_EXITED, **identity, code=code, cause=cause(code), asked=asked)
    if asked:
        return
    now = cluster.kernel.now()
    loading = zygote.phase is ZygotePhase.LOADING
    if loading or zygote.generation == cluster.goal.candidate:
        reason = f"the zygote ended while {zygote.phase}: {cause(code)}"
        blame(cluster, zygote.generation, reason, loading)
    uptime = 0.0 if loading else now - zygote.since
    wait = cluster.roster.importing.died(now, uptime, cluster.jitter())
    if wait:
        cluster.note(Kind.BACKED_OFF, generation=zygote.generation, retry_in=round(wait, 3))


def cause(code: int) -> str:
    """A wait status in words: `SIGKILL`, or `status 3`."""
    if code >= 0:
        return f"status {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


def dump_arrived(cluster: Cluster, row: int) -> None:
    """faulthandler writes the stack of a worker that did not answer, a line at a time."""
    handles, worker = cluster.handles.get(row), cluster.roster.workers.get(row)
    if handles is None or worker is None:
        return
    try:
        data = os.read(handles.dump, DUMP_PIECE)
    except BlockingIOError:
        return
    if not data:
        cluster.kernel.unwatch(Pipe(handles.dump))  # all writers are gone: its death follows
        return
    dump = cluster.dumps.setdefault(row, Dump())
    dump.text += data
    dump.faulted = True
    dump.deadline = cluster.kernel.now() + QUIET


def dump_over(cluster: Cluster, row: int) -> None:
    """All of faulthandler's dump has come, or nothing came at all."""
    worker, dump = cluster.roster.workers[row], cluster.dumps.pop(row)
    text = dump.text.decode("utf-8", "replace") or "it did not even answer the signal"
    cluster.note(Kind.DUMPED, **cluster.identity(worker), by="faulthandler", traceback=text)
