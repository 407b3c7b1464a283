"""Workers that stand still, or say that they are unwell: what is known of them, and what follows.

A blocked loop makes itself known: the kernel's timer in the worker writes its stack into the pipe
that the master reads (`worker.vitals`). From then on, and only then, the master keeps a deadline.
A stopped process cannot even do that; of it the kernel tells the master, its parent.

Deadlines run from when the news came, never from the last heartbeat: where all of us were frozen
or stopped for an hour, every heartbeat is an hour old at the thaw, and nobody is blocked.
"""

from math import inf

from clusterd.core.events import Kind
from clusterd.core.vitals import Condition, Marks, Verdict, due, given
from clusterd.fleet.lifecycle import Phase
from clusterd.fleet.roster import Worker, Zygote, ZygotePhase
from clusterd.ipc.messages import Unwell
from clusterd.ipc.scoreboard import Cell
from clusterd.kernel import threads
from clusterd.kernel.real import Halt
from clusterd.master.cluster import Cluster
from clusterd.master.group import Dump, Group

STANDING = frozenset({Condition.BLOCKED, Condition.HALTED})
LEAST = 0.1  # seconds of waiting for a CPU that are worth a delay
OVERSLEPT = 1.0  # seconds by which the master wakes late only if it stood still itself
LAST_CHANCE = 1.0  # seconds to come round in, for one that stands still once it was replaced
MOST_THREADS = 32  # beside the main one, whose stacks are asked for
TRACED = "t"  # a debugger holds it
BEATS = 2.5  # missed heartbeats after which a loop seems blocked to somebody who asks


def marks(group: Group, worker: Worker) -> Marks:
    """The settings of a worker's generation."""
    vitals = group.configs[worker.generation].vitals
    return Marks(vitals.hang_dump, vitals.hang_timeout, vitals.stall_timeout)


def silence(group: Group, worker: Worker) -> float:
    """Seconds since a worker's last heartbeat; 0 before the first."""
    beat = group.board.row(worker.row)[Cell.HEARTBEAT]
    return max(0.0, group.kernel.now() - beat / 1e6) if beat else 0.0


def kept_waiting(group: Group, worker: Worker) -> float:
    """Seconds since its last heartbeat that a worker has waited for a CPU; 0 if not known."""
    before = group.board.row(worker.row)[Cell.WAITED]
    if not before or worker.pid is None:
        return 0.0
    return max(0.0, group.kernel.waited(worker.pid) - (before - 1) / 1e6)


def starved(group: Group, worker: Worker) -> bool:
    """Does it look blocked only since the machine kept the CPU from it? Then look again later."""
    limit, still = marks(group, worker).dump, silence(group, worker)
    missing = limit - given(still, kept_waiting(group, worker))
    if worker.phase is not Phase.READY or not limit or still < limit or missing <= 0:
        return False
    group.dumps[worker.row] = Dump(group.kernel.now() + max(missing, LEAST), asked=False)
    return True


def dumped(group: Group, worker: Worker, text: str) -> bool:
    """A stack came. Whether its news is that the loop is blocked."""
    limits = marks(group, worker)
    if worker.phase is not Phase.READY or worker.condition in STANDING:
        return False
    still = silence(group, worker)
    waited = kept_waiting(group, worker)
    if not limits.dump or given(still, waited) < limits.dump:
        return False
    replaced_in = _stands(group, worker, Condition.BLOCKED)
    group.note(
        Kind.BLOCKED,
        **group.identity(worker),
        seconds=round(still, 1),
        cpu=round(cpu(group, worker), 2),
        waited=round(waited, 2),
        replaced_in=replaced_in,
        traceback=text,
    )
    return True


def is_at_rest(text: str) -> bool:
    """A stack of the loop itself, which waited for something to do: its process was stopped, or
    had no CPU, and the dump came as it went on."""
    innermost = text.partition("\n")[2].partition("\n")[0]
    return "clusterd/worker/main.py" in innermost and innermost.endswith(" in run")


def halted(cluster: Cluster, halt: Halt) -> None:
    """A child was stopped by a signal, or goes on."""
    for group in cluster.groups.values():
        worker = group.roster.by_pid(halt.pid)
        if worker is None or worker.phase is not Phase.READY or not marks(group, worker).dump:
            continue
        if halt.by and worker.condition not in STANDING:
            _halt(group, worker, f"stopped by {halt.by}")
        elif not halt.by and worker.condition == Condition.HALTED:
            recovered(group, worker, "it was told to continue")


def unwell(group: Group, worker: Worker, message: Unwell) -> None:
    """It judged itself at a beat, so its loop turns."""
    if message.kind == "recovered":
        recovered(group, worker, message.reason)
        return
    if message.kind == "silent":
        silent(group, message.row)
        return
    worker.condition = str(Condition(message.kind))
    why = {"reason": message.reason, "traceback": message.text}
    group.note(Kind(message.kind), **group.identity(worker), **why)


def silent(group: Group, row: int) -> None:
    """A sibling misses a worker's heartbeat: neither its timer nor the kernel told of it."""
    worker = group.roster.workers.get(row)
    if worker is None or worker.pid is None or worker.phase is not Phase.READY:
        return
    limit = marks(group, worker).dump
    if worker.condition in STANDING or not limit or silence(group, worker) < limit:
        return
    if starved(group, worker):
        return
    if group.kernel.doing(worker.pid) == TRACED:
        _held(group, worker, worker.pid)
    elif row not in group.dumps:
        group.dumps[row] = Dump(group.kernel.now(), asked=False)  # its answer tells that it is


def _held(group: Group, worker: Worker, pid: int) -> None:
    """Put a limit to a stop by a tracer that the application started. An operator may take long.

    The worker may be dying: a tracer can stop it at its exit, whoever killed it, for ever. It
    would keep its slot and its connections.
    """
    if tracer := group.kernel.own_tracer(pid):
        reason = f"stopped by process {tracer}, which traces it and was started below clusterd"
        _halt(group, worker, reason)


def _halt(group: Group, worker: Worker, reason: str) -> None:
    replaced_in = _stands(group, worker, Condition.HALTED)
    group.note(Kind.HALTED, **group.identity(worker), reason=reason, replaced_in=replaced_in)


def recovered(group: Group, worker: Worker, reason: str) -> None:
    """It is well again. Whose drain was cut short since it stood still has its time after all."""
    was, worker.condition, worker.verdict_at = worker.condition, "", inf
    group.note(Kind.RECOVERED, **group.identity(worker), reason=reason)
    if was in STANDING and worker.phase is Phase.DRAINING:
        patience = group.patience
        worker.deadline = worker.since + patience.graceful + patience.overtime


def judged(group: Group) -> list[tuple[Worker, str]]:
    """Workers that are to be replaced now, and why. Called at each turn."""
    now = group.kernel.now()
    found = []
    for worker in group.roster.workers.values():
        if worker.condition not in STANDING:
            continue
        last_chance = worker.phase is Phase.DRAINING and worker.deadline <= now
        if worker.verdict_at > now and not last_chance:
            continue
        if group.board.row(worker.row)[Cell.HEARTBEAT] != worker.heartbeat:
            recovered(group, worker, "its event loop turns again")
        elif worker.verdict_at < now - OVERSLEPT:
            worker.verdict_at = now + marks(group, worker).dump
        elif worker.verdict_at <= now:
            missing = kept_waiting(group, worker) - worker.granted
            if missing > LEAST:  # so much of its time was not given to it
                worker.granted += missing
                worker.verdict_at = now + missing
                continue
            worker.verdict_at = inf
            if worker.phase is Phase.READY:
                limit = marks(group, worker).hang
                had = f"it had {cpu(group, worker):.2f} s of CPU"
                if worker.granted > LEAST:
                    had += f" and waited {worker.granted:.1f} s for more, which do not count"
                found.append((worker, f"{worker.condition} for {limit:g} s (hang_timeout); {had}"))
    return found


def cpu(group: Group, worker: Worker) -> float:
    """Seconds of CPU that a worker has used since its last heartbeat."""
    before = group.board.row(worker.row)[Cell.CPU] / 1e6
    return max(0.0, group.kernel.used(worker.pid or 0) - before)


def extend(group: Group) -> None:
    """Put off the end of startups by the time that they waited for a CPU. Called at each turn."""
    now = group.kernel.now()
    starting: list[Worker | Zygote] = [
        w for w in group.roster.workers.values() if w.phase is Phase.BOOTING and w.pid is not None
    ]
    starting += [z for z in group.roster.zygotes if z.phase is ZygotePhase.LOADING]
    for one in starting:
        if one.deadline > now:
            continue
        missing = group.kernel.waited(one.pid or 0) - one.granted
        if missing > LEAST:
            one.granted += missing
            one.deadline = now + missing


def had(group: Group, one: Worker | Zygote) -> str:
    """Say how much CPU a process was given that did not start in time."""
    if one.pid is None:
        return ""
    used, waited = group.kernel.used(one.pid), group.kernel.waited(one.pid)
    return f"; it had {used:.2f} s of CPU and waited {waited:.2f} s for more"


def suspect(group: Group, worker: Worker) -> None:
    """Somebody wants it replaced at once: if it seems to stand still, have its stack, and do not
    wait for it long."""
    beat = min(1.0, marks(group, worker).dump / 5 or 1.0)
    if worker.condition in STANDING or silence(group, worker) < BEATS * beat:
        return
    worker.condition = str(Condition.BLOCKED)
    worker.heartbeat = group.board.row(worker.row)[Cell.HEARTBEAT]
    if worker.pid is not None:
        group.dumps[worker.row] = Dump(group.kernel.now())


def time_to_drain(group: Group, worker: Worker, usual: float) -> float:
    """The deadline of one that is retired: it cannot drain while it stands still."""
    if worker.condition not in STANDING:
        return usual
    ask_threads(group, worker, at_last=True)
    chance = group.kernel.now() + LAST_CHANCE
    if not worker.leaving:  # a reload or a stop: it may still come round within hang_timeout
        chance = max(chance, worker.verdict_at)
    return min(usual, chance)


def _stands(group: Group, worker: Worker, condition: Condition) -> float | None:
    """It stands still since now; in how many seconds it is replaced, None for never."""
    limits = marks(group, worker)
    worker.condition = str(condition)
    worker.heartbeat = group.board.row(worker.row)[Cell.HEARTBEAT]
    worker.granted = kept_waiting(group, worker)
    age = due(condition, Verdict.REPLACE, limits)
    if age is None:
        return None
    # What made a blocked loop known took hang_dump already.
    left = age - limits.dump if condition is Condition.BLOCKED else age
    worker.verdict_at = group.kernel.now() + max(0.0, left)
    return round(max(0.0, left), 1)


def ask_threads(group: Group, worker: Worker, at_last: bool = False) -> None:
    """Where another thread holds the interpreter in C, the loop's own stack is innocent.

    Where a dump may crash a thread that runs, they are asked `at_last`, when it costs nothing.
    """
    if worker.pid is not None and threads.CAN_DUMP_RUNNING is not at_last:
        others = group.kernel.threads(worker.pid)[1 : 1 + MOST_THREADS]
        if others:
            group.dumps[worker.row] = Dump(group.kernel.now(), faulted=True, threads=others)
