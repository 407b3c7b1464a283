"""A worker's life as one keyed table. A test proves it total.

Every pair of phase and cue is legal, moot (it may race a transition and means nothing there),
or a bug of ours.
"""

import enum

from clusterd.core.errors import Bug


class Phase(enum.StrEnum):
    """Where a worker is in its life, as the master sees it."""

    BOOTING = "booting"  # ordered, being born, or starting up
    READY = "ready"
    DRAINING = "draining"
    KILLED = "killed"  # SIGKILL was sent; its wait status is awaited
    GONE = "gone"


class Cue(enum.StrEnum):
    """What can happen to a worker."""

    READIED = "readied"  # it said so
    RETIRED = "retired"  # the plan no longer wants it
    OVERDUE = "overdue"  # its deadline passed
    BREACHED = "breached"  # it broke the rules of its channel
    EXITED = "exited"  # its wait status, or EOF before it ever said hello


P, C = Phase, Cue

LEGAL: dict[tuple[Phase, Cue], Phase] = {
    (P.BOOTING, C.READIED): P.READY,
    (P.BOOTING, C.RETIRED): P.DRAINING,  # a reload or a stop landed in the middle of its boot
    (P.BOOTING, C.OVERDUE): P.KILLED,
    (P.READY, C.RETIRED): P.DRAINING,
    (P.DRAINING, C.OVERDUE): P.KILLED,
    (P.BOOTING, C.BREACHED): P.KILLED,
    (P.READY, C.BREACHED): P.KILLED,
    (P.DRAINING, C.BREACHED): P.KILLED,
    **{(phase, C.EXITED): P.GONE for phase in Phase if phase is not P.GONE},
}

# Cues that may race a transition and mean nothing there. Everything else is a bug.
MOOT: frozenset[tuple[Phase, Cue]] = frozenset(
    {
        (P.DRAINING, C.READIED),  # retired while its word was on the way
        (P.DRAINING, C.RETIRED),
        (P.KILLED, C.READIED),
        (P.KILLED, C.RETIRED),
        (P.KILLED, C.OVERDUE),
        (P.KILLED, C.BREACHED),
        (P.READY, C.READIED),
        (P.READY, C.OVERDUE),  # ready in the same turn in which its boot ran out
    }
)

# Serving, or about to. The plan counts on these.
LIVE = frozenset({P.BOOTING, P.READY})


def step(phase: Phase, cue: Cue) -> Phase:
    """The phase after a cue. Raises Bug for a pair that cannot be."""
    after = LEGAL.get((phase, cue))
    if after is not None:
        return after
    if (phase, cue) in MOOT:
        return phase
    raise Bug(f"a {phase} worker was {cue}")
