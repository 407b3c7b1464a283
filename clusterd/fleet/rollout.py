"""Judging a rollout and a first start. Pure, like the plan."""

import enum
from dataclasses import replace

from clusterd.fleet.goal import Goal, Mode, Patience
from clusterd.fleet.lifecycle import Phase
from clusterd.fleet.roster import Roster


class Verdict(enum.Enum):
    """What has become of a rollout since it was last looked at."""

    PROVEN = enum.auto()  # the canary lived through min_ready
    FINISHED = enum.auto()
    FAILED = enum.auto()


def judge(roster: Roster, goal: Goal, patience: Patience, now: float) -> Verdict | None:
    """The news of the rollout, if there is any."""
    if goal.candidate is None or goal.mode is not Mode.SERVING:
        return None
    if goal.candidate in roster.faults:
        return Verdict.FAILED
    mine = [w for w in roster.live() if w.generation == goal.candidate]
    ready = [w for w in mine if w.phase is Phase.READY]
    if not goal.proven:
        lived = any(w.since + patience.min_ready <= now for w in ready)
        return Verdict.PROVEN if lived else None
    held = {w.slot for w in ready if not w.leaving}
    # An old worker that was told to leave may still take one more connection: not finished yet.
    old = (w for w in roster.workers.values() if w.generation != goal.candidate)
    stale = any(w.live or w.accepting for w in old)
    complete = held >= set(range(goal.size)) and not stale
    return Verdict.FINISHED if complete else None


def after(goal: Goal, verdict: Verdict, kept_until: float) -> Goal:
    """The goal that follows from a verdict. A failure leaves the stable generation wanted."""
    if verdict is Verdict.PROVEN:
        return replace(goal, proven=True)
    if verdict is Verdict.FAILED:
        return replace(goal, candidate=None, proven=False, swift=False)
    assert goal.candidate is not None
    return replace(
        goal,
        stable=goal.candidate,
        candidate=None,
        proven=False,
        swift=False,
        kept=goal.stable,
        kept_until=kept_until,
    )


def hopeless(roster: Roster, goal: Goal, patience: Patience, now: float) -> str:
    """Why a first start is given up, or ''. Once a worker was ready nothing is hopeless."""
    if roster.ever_ready or goal.mode is not Mode.SERVING:
        return ""
    if goal.stable in roster.faults:
        return roster.faults[goal.stable]
    tallies = [roster.slot(slot) for slot in range(goal.size)]
    died = [t.deaths - t.unborn >= patience.tries for t in tallies]
    if all(died) if patience.parallel else any(died):
        which = "every worker" if patience.parallel else "the first worker"
        return f"{which} died {patience.tries} times before it was ready"
    first = min((t.first_death for t in tallies if t.deaths), default=None)
    if first is not None and now - first >= patience.never_ready:
        return f"no worker became ready within {patience.never_ready:g} s of the first death"
    return ""
