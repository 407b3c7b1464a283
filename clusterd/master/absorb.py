"""Take facts in: what processes said, who died, what came through a dump pipe."""

import os
import signal
from collections.abc import Callable
from typing import Any

from clusterd.config.address import NO_TLS
from clusterd.core.events import Kind
from clusterd.core.imports import DOCS, PRICE
from clusterd.core.stacks import NO_STACKS
from clusterd.fleet.backoff import GROWN_UP
from clusterd.fleet.goal import Mode
from clusterd.fleet.lifecycle import Cue, Phase, step
from clusterd.fleet.roster import Worker, Zygote, ZygotePhase
from clusterd.ipc.channel import Breach, Closed, Heard, MasterChannel
from clusterd.ipc.messages import (
    UNFIT,
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
    Unwell,
)
from clusterd.ipc.scoreboard import Cell
from clusterd.kernel.real import Death
from clusterd.master import ahead, breach, certificates, ending, orphans, vitals
from clusterd.master.cause import explained
from clusterd.master.cluster import Cluster
from clusterd.master.group import Dump, Group, Pipe

DUMP_PIECE = 64 * 1024  # bytes; a stack of 100 frames has some 8 KiB
MOST_DUMPED = 512 * 1024  # bytes that are kept of a dump: the pipe is open to the application, too
QUIET = 0.1  # seconds without another piece after which faulthandler's dump is whole
MOST_HEARD = 512  # messages of one process in a turn; more than its channel holds


def listen_to(group: Group, channel: MasterChannel, speaker: Worker | Zygote) -> bool:
    """Take in what a process has said so far; False once it closed its end.

    Who goes on talking is heard again in the next turn: others are to be heard, too.
    """
    for _ in range(MOST_HEARD):
        try:
            heard = channel.hear(isinstance(speaker, Worker))
        except Breach as error:
            excess = channel.budget.spend(group.kernel.now(), 0)
            if error.is_foreign and not excess and is_changed(group, speaker):
                if isinstance(speaker, Zygote):
                    continue
                breach.end_worker(group, speaker, UNFIT.reason)
                return True
            sender = group.kernel.sender(error.sender, speaker.pid or 0)
            breach.breached(group, speaker, str(error), sender)
            return True
        if heard is None:
            return True
        if isinstance(heard, Closed):
            return False
        if excess := _spend(group, channel, speaker, heard):
            breach.breached(group, speaker, f"it said more than {excess}")
            return True
        group.cluster.guard(_hear, group, speaker, heard)
        if channel.fileno() < 0:
            return True  # it was not what it said
    return True


def is_changed(group: Group, speaker: Worker | Zygote) -> bool:
    """Return whether clusterd was exchanged before a process loaded it, and report that.

    It is of no use, though it knows no better: a zygote that loads, or a worker that starts from
    the disk, since its generation cannot be forked.
    """
    roster = group.roster
    if isinstance(speaker, Worker):
        is_loading = speaker.phase is Phase.BOOTING and speaker.generation in roster.unsafe
        is_news = is_loading  # it ends with its first message
    else:
        is_loading = speaker.phase is ZygotePhase.LOADING
        is_news = is_loading and speaker.generation not in roster.faults
    if is_news:
        failed(group, speaker, UNFIT)
    return is_loading


def _spend(group: Group, channel: MasterChannel, speaker: Worker | Zygote, heard: Heard) -> str:
    """Count a message; what its sender has exceeded by it, or ''."""
    message = heard.message
    if isinstance(message, Unspawned) and _is_awaited(group, message):
        return ""  # each order may fail, and all of them at once
    size = 0 if _is_asked_for(group, speaker, message) else heard.size
    return channel.budget.spend(group.kernel.now(), size)


def _is_asked_for(group: Group, speaker: Worker | Zygote, message: Message) -> bool:
    """Return whether this is the dump that was asked for, which may be asked for at any time."""
    if not isinstance(message, Dumped) or not isinstance(speaker, Worker):
        return False
    dump = group.dumps.get(speaker.row)
    return dump is not None and dump.asked


def _hear(group: Group, speaker: Worker | Zygote, heard: Heard) -> None:
    message = heard.message
    if isinstance(speaker, Worker):
        claimed = message.pid if isinstance(message, Hello) else speaker.pid or 0
        sender = group.kernel.sender(heard.sender, claimed)
        if reason := breach.doubt(group, speaker, message, sender):
            breach.breached(group, speaker, reason, sender)
            return
    TABLE[type(message)](group, speaker, message)


def worker_spoke(group: Group, row: int) -> None:
    """A worker's channel is readable. EOF before hello means that it was never born."""
    worker, handles = group.roster.workers.get(row), group.handles.get(row)
    if worker is None or handles is None or handles.channel.fileno() < 0:
        return
    if not listen_to(group, handles.channel, worker):
        if worker.pid is None:
            unspawned(group, worker, "it ended before it said hello")
        else:
            group.close_channel(row)  # its wait status is what counts, and will come
            group.kernel.expect_end(worker.pid)


def zygote_spoke(group: Group, pid: int) -> None:
    """A zygote's channel is readable."""
    zygote = next((z for z in group.roster.zygotes if z.pid == pid), None)
    channel = group.zygote_channels.get(pid)
    if zygote is None or channel is None or channel.fileno() < 0:
        return
    if not listen_to(group, channel, zygote):
        group.kernel.unwatch(channel)
        group.kernel.expect_end(pid)
        # Its death follows; if the import only closed the channel, it is of no use to us.
        patience = group.kernel.now() + group.patience.dismissal
        zygote.deadline = min(zygote.deadline, patience)


def hello(group: Group, worker: Worker, message: Hello) -> None:
    """Take a newborn worker in. `breach.doubt` has looked at what it says of itself."""
    worker.pid = message.pid
    if worker.phase is Phase.BOOTING:
        worker.deadline = worker.born + group.patience.startup
    if worker.phase is Phase.KILLED:
        group.kernel.kill(message.pid, signal.SIGKILL)


def ready(group: Group, worker: Worker, message: Ready) -> None:
    after = step(worker.phase, Cue.READIED)
    if after is worker.phase:
        return
    now = group.kernel.now()
    worker.phase, worker.since, worker.deadline = after, now, float("inf")
    worker.granted = 0.0
    worker.accepting = True
    took = round(now - worker.born, 3)
    if not group.roster.ever_ready and group.goal.mode is not Mode.STOPPING:
        group.sockets.welcome()  # before anybody hears of it
    group.note(Kind.READIED, **group.identity(worker), seconds=took)
    group.roster.ever_ready = True
    if worker.generation in group.roster.unsafe or group.is_command:
        _compare_files(group, worker, message.fingerprint)
    goal = group.goal
    if worker.generation == goal.candidate and not goal.proven:
        group.note(Kind.CANARY_READIED, **group.identity(worker))
    announce(group.cluster)


def _compare_files(group: Group, worker: Worker, fingerprint: str) -> None:
    """Warn of a worker that imported or runs other files than the workers before it.

    Nothing holds the code of its generation but the disk, which may have changed since.
    """
    known = group.fingerprints.setdefault(worker.generation, fingerprint)
    if known != fingerprint:
        group.fingerprints[worker.generation] = fingerprint  # say it once
        does = "runs" if group.is_command else "has loaded"
        reason = f"worker {worker.slot} {does} other files than the workers before it"
        then = "generation {} is served by different code until 'clusterd reload'"
        group.note(
            Kind.TROUBLE,
            **group.identity(worker),
            reason=f"{reason}: they changed on disk",
            next=then.format(worker.generation),
        )


def announce(cluster: Cluster) -> None:
    """Say once that all is up: every group that serves an application, or where there is none,
    every one. Called each turn: fewer workers may do by now, or fewer groups."""
    for group in cluster.groups.values():
        if not group.announced and group.goal.mode is Mode.SERVING:
            holding = {w.slot for w in group.roster.live() if w.phase is Phase.READY}
            group.announced = holding >= set(range(group.goal.size))
    groups = [g for g in cluster.wanted if not g.is_command] or cluster.wanted
    if cluster.announced or cluster.stopping or not all(group.announced for group in groups):
        return
    cluster.announced = True
    workers = sum(group.goal.size for group in groups)
    seconds = round(cluster.kernel.now() - cluster.started, 3)
    stable = cluster.main.goal.stable
    urls = {"urls": found} if (found := served_at(cluster)) else {}
    cluster.note(Kind.READY, **urls, workers=workers, seconds=seconds, generation=stable)
    ahead.renew(cluster)


def served_at(cluster: Cluster) -> list[str]:
    """Return the URLs, and the Unix sockets, that applications are served at."""
    found = []
    for group in cluster.wanted:
        for listener in group.sockets:
            name = listener.name.partition("#")[0]  # of reuseport, each slot has one
            plain = name.removesuffix(NO_TLS)
            secured = group.config.tls.tls_cert and plain == name
            is_url = not name.startswith("unix:")
            found.append(f"http{'s' if secured else ''}://{plain}" if is_url else plain)
    return list(dict.fromkeys(found))


def leaving(group: Group, worker: Worker, message: Leaving) -> None:
    """It wants to be replaced. Unless that was planned, it counts as an end of its own making:
    one that leaves as soon as it is ready would spin.

    Who is to be recycled lived at least from one beat of its pulse to the next, was well, and
    its slot is not to wait for it. Should it die before it is replaced, that is a death as any.
    """
    if worker.leaving:
        return
    worker.leaving, worker.recycling = True, message.recycle
    planned = {"recycle": True} if message.recycle else {}
    group.note(Kind.LEAVING, **group.identity(worker), reason=message.reason, **planned)
    uptime = group.kernel.now() - worker.since if worker.phase is Phase.READY else 0.0
    if message.recycle and uptime < GROWN_UP:
        return
    worker.asked = not message.recycle
    back_off(group, worker, uptime)


def judge(group: Group) -> None:
    """Replace those that have stood still for too long."""
    for worker, reason in vitals.judged(group):
        leaving(group, worker, Leaving(reason))


def draining(_group: Group, worker: Worker, _message: Draining) -> None:
    worker.accepting = False


def dumped(group: Group, worker: Worker, message: Dumped) -> None:
    dump = group.dumps.pop(worker.row, None)
    unasked = dump is None or not dump.asked
    if unasked and vitals.starved(group, worker):
        return
    if vitals.dumped(group, worker, message.text) and (dump is None or not dump.asked):
        return
    group.note(Kind.DUMPED, **group.identity(worker), by="worker", traceback=message.text)


def failed(group: Group, speaker: Worker | Zygote, message: Failed) -> None:
    generation = speaker.generation
    group.tracebacks[generation] = message.traceback
    # None of these would go better again: a zygote has looked for the code, or the program.
    importing = message.stage in ("import", "limits") or isinstance(speaker, Zygote)
    if message.stage == "limits":
        group.misconfigured.add(generation)
    group.last_failure = f"{message.stage} failed: {message.reason}"
    blame(group, generation, group.last_failure, importing)
    kind = Kind.ZYGOTE_FAILED if isinstance(speaker, Zygote) else Kind.WORKER_FAILED
    identity = {"generation": generation, "pid": speaker.pid}
    if isinstance(speaker, Worker):
        identity = group.identity(speaker)
    why = {"stage": message.stage, "reason": message.reason, "traceback": message.traceback}
    if message.remedy:
        why["remedy"] = " ".join(message.remedy.split())
    if _ends_the_start(group, generation):
        group.note(kind, **identity, **why, final=True)  # `gave_up` follows, and says the same
    else:
        group.note(kind, **identity, **why)
    group.remedy = why.get("remedy", "")


def _ends_the_start(group: Group, generation: int) -> bool:
    """Return whether this failure has the whole cluster give up: nothing else is to start."""
    cluster, goal = group.cluster, group.goal
    starts = goal.mode is Mode.SERVING and generation == goal.stable
    never = not (cluster.announced or group.roster.ever_ready or cluster.stopping)
    return starts and never and cluster.wanted == [group] and generation in group.roster.faults


def loaded(group: Group, zygote: Zygote, message: Loaded) -> None:
    if zygote.phase is not ZygotePhase.LOADING:
        return
    zygote.phase, zygote.deadline = ZygotePhase.LOADED, float("inf")
    zygote.since = group.kernel.now()
    known = group.fingerprints.get(zygote.generation)
    if message.fingerprint and known not in (None, message.fingerprint):
        _changed_on_disk(group, zygote)
    if message.fingerprint:
        group.fingerprints[zygote.generation] = message.fingerprint
    if message.unsafe:
        # A bare zygote says that it imports nothing; what the first one found is the reason.
        zygote.unsafe = group.roster.unsafe.setdefault(zygote.generation, message.unsafe)
    group.note(
        Kind.ZYGOTE_READIED,
        generation=zygote.generation,
        pid=zygote.pid,
        seconds=round(message.seconds, 3),
        **({"import_per_worker": message.kinds or zygote.unsafe} if zygote.unsafe else {}),
        **({"bare": True} if zygote.bare else {}),
    )
    if message.kinds and known is None:  # once a generation, however often its zygote is rebuilt
        group.note(
            Kind.IMPORT_PER_WORKER,
            generation=zygote.generation,
            reason=message.unsafe,
            price=PRICE,
            remedy=f"{message.advice} {DOCS}".strip(),
        )
    if message.handlers and known is None:
        _tell_of_handlers(group, message)


def _tell_of_handlers(group: Group, message: Loaded) -> None:
    """Warn of the application's signal handlers that no worker runs."""
    group.note(
        Kind.TROUBLE,
        generation=message.generation,
        reason=f"the import installed handlers that workers replace: {message.handlers}",
        next="workers handle these signals themselves",
        remedy=f"Do at the end what must be done in lifespan shutdown or atexit. {DOCS}",
    )


def _changed_on_disk(group: Group, zygote: Zygote) -> None:
    """A rebuilt zygote found other code than the one that died: that is a new generation.

    It goes through the canary like any other; the generation it was meant for has no code left.
    """
    from_generation = zygote.generation
    group.roster.lost.add(from_generation)
    if group.goal.candidate is not None:
        return  # a rollout is under way: the plan dismisses this one or asks for another
    if group.goal.mode is not Mode.SERVING:
        return  # no rollout ends in a pause: when that is over, the plan asks for another
    config, bundle = group.configs[from_generation], group.bundles.get(from_generation)
    zygote.generation = group.next_generation(config, bundle)
    group.goal = group.goal.rolling(zygote.generation)
    reason = "the code on disk changed since the zygote that died"
    group.note(
        Kind.ROLLOUT_STARTED, generation=zygote.generation, previous=from_generation, reason=reason
    )


def certified(group: Group, speaker: Worker | Zygote, message: Certified) -> None:
    generation = speaker.generation
    if message.fault and not message.number:  # those that it was to begin with
        group.misconfigured.add(generation)
        blame(group, generation, message.fault, importing=True)
        identity = {"generation": generation, "pid": speaker.pid}
        why = {"reason": message.fault, "remedy": message.remedy}
        group.note(Kind.ZYGOTE_FAILED, **identity, stage="certificates", **why)
    certificates.certified(group, speaker, message)


def said_unspawned(group: Group, _zygote: Zygote, message: Unspawned) -> None:
    if _is_awaited(group, message):
        unspawned(group, group.roster.workers[message.row], message.reason)


def _is_awaited(group: Group, message: Unspawned) -> bool:
    """Return whether a worker was ordered there, and has not said hello yet."""
    worker = group.roster.workers.get(message.row)
    return worker is not None and worker.pid is None


TABLE: dict[type[Message], Callable[[Group, Any, Any], None]] = {
    Hello: hello,
    Ready: ready,
    Leaving: leaving,
    Unwell: vitals.unwell,
    Draining: draining,
    Dumped: dumped,
    Failed: failed,
    Loaded: loaded,
    Unspawned: said_unspawned,
    Certified: certified,
}


def unspawned(group: Group, worker: Worker, reason: str) -> None:
    """A worker was ordered and never came to be: back off its slot."""
    ending.count_failure(group)
    wait = 0.0
    if not worker.asked:
        tally = group.roster.slot(worker.slot)
        wait = tally.died(group.kernel.now(), 0.0, group.cluster.jitter(), unborn=True)
        blame(group, worker.generation, f"no worker could be started: {reason}")
    worker.phase = Phase.GONE
    group.note(
        Kind.SPAWN_FAILED,
        slot=worker.slot,
        generation=worker.generation,
        reason=reason,
        retry_in=round(wait, 3),
    )
    group.forget(worker)


def blame(group: Group, generation: int, reason: str, importing: bool = False) -> None:
    """A generation failed. It counts while it rolls in; at first start, if it was the import."""
    first = not group.roster.ever_ready and generation == group.goal.stable
    if generation == group.goal.candidate or (first and importing):
        group.roster.faults.setdefault(generation, reason)


def died(cluster: Cluster, death: Death) -> None:
    """A child was reaped. It may be an orphan of ours, or a stranger, which is only reaped."""
    for group in cluster.groups.values():
        worker = group.roster.by_pid(death.pid)
        if worker is not None:
            _worker_died(group, worker, death.code)
            return
        for zygote in group.roster.zygotes:
            if zygote.pid == death.pid:
                _zygote_died(group, zygote, death.code)
                return
    if cluster.ahead is not None and cluster.ahead.pid == death.pid:
        cluster.ahead.died()  # its like is started when one is needed, and is then missed
        cluster.ahead = None
        return
    orphans.reaped(cluster, death.pid)


def _worker_died(group: Group, worker: Worker, code: int) -> None:
    # Its last words explain its death; but whatever they are, a reaped pid leaves the roster.
    group.cluster.guard(worker_spoke, group, worker.row)
    group.cluster.guard(dump_arrived, group, worker.row)
    if worker.row in group.dumps and group.dumps[worker.row].text:
        dump_over(group, worker.row)
    now, was = group.kernel.now(), worker.phase
    if was is Phase.BOOTING or worker.born >= group.stop_began:
        ending.count_failure(group)
    elif code and worker.sweeps:
        group.sockets.leave_unserved()
    uptime = now - worker.since if was is Phase.READY else 0.0
    worker.phase = step(was, Cue.EXITED)
    fault = not worker.asked
    words = explained(group.cluster, code, was is Phase.KILLED)
    group.note(
        Kind.EXITED,
        **group.identity(worker),
        **words,
        uptime=round(now - worker.born, 3),
        asked=worker.asked,
        **({"fault": True} if fault else {}),
    )
    config = group.configs[worker.generation]
    if config.command.command:  # a keeper that was killed leaves what its program had started
        leader = group.board.row(worker.row)[Cell.COMMAND]
        known = orphans.ours(group.cluster)
        group.cluster.guard(group.kernel.kill_group, leader, config.limits.user, known)
    whose = {"group": group.name, **group.identity(worker)}
    orphans.ended(group.cluster, worker.pid or 0, whose)
    group.forget(worker)
    if not fault:
        return
    group.restarts[worker.slot] = group.restarts.get(worker.slot, 0) + 1
    blame(group, worker.generation, f"worker {worker.slot} ended while {was}: {words['cause']}")
    back_off(group, worker, uptime)


def back_off(group: Group, worker: Worker, uptime: float) -> None:
    """A worker went by its own will or fault: if it was young, its slot's next one waits."""
    tally = group.roster.slot(worker.slot)
    wait = tally.died(group.kernel.now(), uptime, group.cluster.jitter())
    if wait:
        retry = {"deaths": tally.deaths, "retry_in": round(wait, 3)}
        group.note(Kind.BACKED_OFF, slot=worker.slot, generation=worker.generation, **retry)


def _zygote_died(group: Group, zygote: Zygote, code: int) -> None:
    group.cluster.guard(zygote_spoke, group, zygote.pid)
    group.roster.zygotes.remove(zygote)
    if zygote.phase is not ZygotePhase.DISMISSED:
        ending.count_failure(group)
    channel = group.zygote_channels.pop(zygote.pid)
    group.kernel.unwatch(channel)
    channel.close()
    asked = zygote.phase is ZygotePhase.DISMISSED
    identity = {"generation": zygote.generation, "pid": zygote.pid}
    words = explained(group.cluster, code, killed_by_us=asked)
    group.note(Kind.ZYGOTE_EXITED, **identity, **words, asked=asked)
    orphans.ended(group.cluster, zygote.pid, {"group": group.name, **identity})
    if asked:
        return
    now = group.kernel.now()
    loading = zygote.phase is ZygotePhase.LOADING
    if loading or zygote.generation == group.goal.candidate:
        reason = f"the zygote ended while {zygote.phase}: {words['cause']}"
        blame(group, zygote.generation, reason, loading)
    uptime = 0.0 if loading else now - zygote.since
    wait = group.roster.importing.died(now, uptime, group.cluster.jitter())
    if wait:
        group.note(Kind.BACKED_OFF, generation=zygote.generation, retry_in=round(wait, 3))


def dump_arrived(group: Group, row: int) -> None:
    """faulthandler writes the stack of a worker that did not answer, a line at a time."""
    handles, worker = group.handles.get(row), group.roster.workers.get(row)
    if handles is None or worker is None:
        return
    try:
        data = os.read(handles.dump, DUMP_PIECE)
    except BlockingIOError:
        return
    if not data:
        group.kernel.unwatch(Pipe(handles.dump))  # all writers are gone: its death follows
        return
    if excess := handles.channel.pieces.spend(group.kernel.now(), len(data)):
        breach.breached(group, worker, f"it wrote more stacks than {excess}")
        return
    dump = group.dumps.setdefault(row, Dump(asked=False))
    if len(dump.text) + len(data) > MOST_DUMPED:
        return  # nor does it last any longer by that
    if dump.thread:
        dump.text += f"thread {dump.thread}\n".encode()
        dump.thread = 0
    dump.text += data
    dump.faulted = True
    dump.deadline = group.kernel.now() + QUIET


def dump_over(group: Group, row: int) -> None:
    """All of faulthandler's dump has come, or nothing came at all."""
    worker, dump = group.roster.workers[row], group.dumps.pop(row)
    if dump.thread and not dump.text:
        return  # its other threads run nothing of Python's
    if not dump.asked and vitals.starved(group, worker):
        return
    text = dump.text.decode("utf-8", "replace") or NO_STACKS
    is_blocked = vitals.dumped(group, worker, text)
    if is_blocked:
        vitals.ask_threads(group, worker)
    if not dump.asked and (is_blocked or vitals.is_at_rest(text)):
        return
    group.note(Kind.DUMPED, **group.identity(worker), by="faulthandler", traceback=text)
