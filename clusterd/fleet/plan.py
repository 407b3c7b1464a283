"""What to do next. Pure and level-triggered: it looks at what is, not at what happened.

Scale, crash, reload, rollback, turn-back, pause and stop are this one function looking at a
different goal; a lost message heals at the next turn.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from math import inf

from clusterd.core.vitals import Condition
from clusterd.fleet.goal import Goal, Mode, Patience
from clusterd.fleet.lifecycle import Phase
from clusterd.fleet.roster import Roster, Worker, Zygote, ZygotePhase


@dataclass(frozen=True, slots=True)
class StartZygote:
    """Start a fresh process that imports the code of a generation."""

    generation: int


@dataclass(frozen=True, slots=True)
class DismissZygote:
    """Have a zygote leave."""

    zygote: Zygote = field(hash=False)


@dataclass(frozen=True, slots=True)
class KillZygote:
    """A zygote took too long: to import, to fork, or to leave."""

    zygote: Zygote = field(hash=False)
    why: str


@dataclass(frozen=True, slots=True)
class Spawn:
    """Order a worker into a slot."""

    slot: int
    generation: int


@dataclass(frozen=True, slots=True)
class Retire:
    """Have a worker drain and leave."""

    row: int
    why: str


@dataclass(frozen=True, slots=True)
class Kill:
    """A worker's deadline passed."""

    row: int
    why: str


@dataclass(frozen=True, slots=True)
class Renew:
    """The stable generation's code is no longer on disk, and a slot lacks it: load today's.

    The slot is empty, or holds what a rollout left that failed half-way.
    """


Action = StartZygote | DismissZygote | KillZygote | Spawn | Retire | Kill | Renew


@dataclass(slots=True)
class Plan:
    """Actions in order, and when to look again though nothing happened."""

    actions: list[Action] = field(default_factory=list)
    due: float = inf

    def at(self, when: float, now: float) -> bool:
        """Is it time? If not, be woken then."""
        if when > now:
            self.due = min(self.due, when)
            return False
        return True


def plan(roster: Roster, goal: Goal, patience: Patience, now: float) -> Plan:
    """Say what to do next, and when to ask again."""
    out = Plan()
    _overdue(out, roster, now)
    if goal.mode is Mode.SERVING:
        _serve(out, roster, goal, patience, now)
    elif goal.sweep:
        if not any(roster.live()) and _can_fork(roster, goal.stable):
            out.actions.append(Spawn(0, goal.stable))
    else:
        why = goal.why or str(goal.mode)
        out.actions += [Retire(w.row, why) for w in roster.live()]
    _zygotes(out, roster, goal, now)
    return out


def _overdue(out: Plan, roster: Roster, now: float) -> None:
    for worker in sorted(roster.workers.values(), key=lambda w: w.row):
        if worker.phase is Phase.KILLED or not out.at(worker.deadline, now):
            continue
        if worker.phase is Phase.BOOTING and worker.pid is None:
            zygote = roster.zygote(worker.generation)
            if zygote is not None and not zygote.unsafe:
                out.actions.append(KillZygote(zygote, "it did not fork in time"))
        out.actions.append(Kill(worker.row, _lateness(worker)))
    for zygote in roster.zygotes:
        if out.at(zygote.deadline, now):
            why = "import took too long" if zygote.phase is ZygotePhase.LOADING else "did not leave"
            out.actions.append(KillZygote(zygote, why))


def _lateness(worker: Worker) -> str:
    if worker.condition in (Condition.BLOCKED, Condition.HALTED):
        return f"it is {worker.condition}"
    if worker.phase is Phase.DRAINING:
        return "it did not leave within the graceful timeout"
    return "never born" if worker.pid is None else "it was not ready within the startup timeout"


def _serve(out: Plan, roster: Roster, goal: Goal, patience: Patience, now: float) -> None:
    target = goal.stable
    if goal.candidate is not None and goal.proven:
        target = goal.candidate
    wanted = {target}
    source = target  # the generation to fork from
    if target in roster.lost and goal.candidate is not None:
        # Its code is gone from the disk: an empty slot is filled from the candidate, proven or not.
        source = goal.candidate
        wanted.add(source)
    holders = _holders(roster.live(), goal.size, wanted)
    canary = _canary(out, roster, goal, patience, now)
    stale = [w for w in roster.live() if w is not canary and w is not holders.get(w.slot)]
    if goal.resuming and not goal.proven:
        return  # after a pause the old code starts again only if the new one fails
    _fill(out, roster, goal, holders, stale, source, patience, now)
    _retire(out, roster, goal, holders, stale)


def _holders(live: Iterable[Worker], size: int, wanted: set[int]) -> dict[int, Worker]:
    """The worker that each slot is to keep: of a wanted generation, and not about to leave."""
    holders: dict[int, Worker] = {}
    for worker in live:
        if worker.slot < size and worker.generation in wanted and not worker.leaving:
            holders.setdefault(worker.slot, worker)
    return holders


def _canary(out: Plan, roster: Roster, goal: Goal, patience: Patience, now: float) -> Worker | None:
    """The candidate's first worker, beside the old ones until it is proven. Ordered here."""
    if goal.candidate is None or goal.proven or goal.candidate in roster.faults:
        return None
    mine = [w for w in roster.live() if w.generation == goal.candidate]
    if not mine and _can_fork(roster, goal.candidate):
        out.actions.append(Spawn(0, goal.candidate))
    canary = next((w for w in mine if w.phase is Phase.READY), mine[0] if mine else None)
    if canary is not None and canary.phase is Phase.READY:
        out.at(canary.since + patience.min_ready, now)
    return canary


def _can_fork(roster: Roster, generation: int) -> bool:
    """Return whether a worker can be started: from its zygote, or by an import of its own."""
    if generation in roster.unsafe:
        return True
    zygote = roster.zygote(generation)
    return zygote is not None and zygote.phase is ZygotePhase.LOADED


def _fill(
    out: Plan,
    roster: Roster,
    goal: Goal,
    holders: dict[int, Worker],
    stale: list[Worker],
    source: int,
    patience: Patience,
    now: float,
) -> None:
    """Order workers: into slots that stand empty at once, into those of stale ones in turn."""
    if source in roster.lost and any(s not in holders for s in range(goal.size)):
        if goal.candidate is None and out.at(roster.renewing.until, now):
            out.actions.append(Renew())
        return
    if not _can_fork(roster, source):
        return
    occupied = {w.slot for w in stale}
    room = _room(roster, patience, source)
    # In a roll the next slot starts when the one before is ready and its old worker was told.
    swapping = any(
        s in occupied and holders[s].phase in (Phase.BOOTING, Phase.READY) for s in holders
    )
    for slot in range(goal.size):
        if slot in holders or (slot in occupied and swapping and not goal.swift):
            continue
        if room <= 0:
            return
        if out.at(roster.slot(slot).until, now):
            swapping = swapping or slot in occupied
            room -= 1
            out.actions.append(Spawn(slot, source))
        elif not (roster.ever_ready or patience.parallel):
            return  # a first start is given up when its first worker fails again and again


def _room(roster: Roster, patience: Patience, source: int) -> int:
    """Return how many workers of a generation may be ordered now.

    The first one starts alone: what two startups do at the same time (create a database, migrate
    it) may fail or, worse, succeed twice. The rest follow when it is ready, but never so many at
    once that they keep each other from becoming ready in time.
    """
    booting = [w for w in roster.workers.values() if w.phase is Phase.BOOTING]
    mine = [w for w in roster.workers.values() if w.generation == source]
    if patience.parallel or any(w.phase is Phase.READY for w in mine):
        return patience.at_once - len(booting)
    return 0 if any(w.phase is Phase.BOOTING for w in mine) else 1


def _retire(
    out: Plan, roster: Roster, goal: Goal, holders: dict[int, Worker], stale: list[Worker]
) -> None:
    """Let go of those that nobody needs, but never so many that fewer work than drain."""
    draining, ready = roster.count(Phase.DRAINING), roster.count(Phase.READY)
    for worker in stale:
        if worker.slot >= goal.size:
            out.actions.append(Retire(worker.row, goal.why or "scale"))
            continue
        holder = holders.get(worker.slot)
        if holder is None or holder.phase is not Phase.READY:
            continue
        if worker.phase is Phase.READY:
            if draining + 1 > ready - 1:
                continue
            draining, ready = draining + 1, ready - 1
        out.actions.append(Retire(worker.row, _why(worker)))


def _why(worker: Worker) -> str:
    """What to tell one whose successor is ready."""
    if worker.recycling:
        return "recycled"
    return "replaced" if worker.leaving else "reload"


def _is_spent(zygote: Zygote, out: Plan) -> bool:
    """Return whether a zygote holds an application that nothing will be forked from.

    Its threads, connections and memory must not stay. If a worker of its generation is ordered
    now, the zygote becomes that worker: the import is not done in vain.
    """
    if not zygote.unsafe or zygote.bare:
        return False
    ordered = (one for one in out.actions if isinstance(one, Spawn))
    return all(one.generation != zygote.generation for one in ordered)


def _zygotes(out: Plan, roster: Roster, goal: Goal, now: float) -> None:
    wanted = goal.generations
    if goal.mode is Mode.STOPPING:
        # They stay until the last worker is gone: each is the undertaker should we be killed now.
        needed = bool(roster.workers) or goal.sweep
        wanted = {z.generation for z in roster.zygotes} if needed else set()
    for zygote in roster.zygotes:
        idle = zygote.phase is not ZygotePhase.DISMISSED
        needed = goal.sweep and zygote.generation == goal.stable
        stopping = goal.mode is Mode.STOPPING and not needed
        loading_in_vain = stopping and zygote.phase is ZygotePhase.LOADING
        spent = goal.mode is not Mode.STOPPING and _is_spent(zygote, out)
        if idle and (zygote.generation not in wanted or loading_in_vain or spent):
            out.actions.append(DismissZygote(zygote))
    if goal.mode is Mode.STOPPING and not goal.sweep:
        return
    for generation in (goal.stable, goal.candidate):
        if generation is None or generation in roster.lost or generation in roster.faults:
            continue
        if roster.zygote(generation) is None and out.at(roster.importing.until, now):
            out.actions.append(StartZygote(generation))
    out.at(goal.kept_until, now)
