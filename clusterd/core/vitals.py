"""What can be wrong with a worker that is ready, and what follows from that and how long it lasts.

Pure, and in this room since both ends judge by it: the worker what it can see while its loop
turns, the master what a worker that stands still cannot see. Import, startup and leaving are
never judged: they have time limits of their own.
"""

import enum
from dataclasses import dataclass


class Condition(enum.StrEnum):
    """How a worker is, in the words of events and of `clusterd status`."""

    BLOCKED = "blocked"  # its event loop does not turn
    HALTED = "halted"  # it was stopped by a signal (SIGSTOP), or cannot run
    BUSY = "busy"  # its loop turns, but a thread keeps the interpreter to itself
    STALLED = "stalled"  # its loop turns, and none of its requests gets on


class Mark(enum.StrEnum):
    """A time that a condition may have lasted: one of the settings."""

    DUMP = "hang_dump"
    HANG = "hang_timeout"
    STALL = "stall_timeout"


class Verdict(enum.IntEnum):
    """What is to be done. The graver one counts."""

    NOTHING = 0
    REPORT = 1  # an event, with the stacks
    REPLACE = 2  # the replacement first


C, M, V = Condition, Mark, Verdict

TABLE: dict[tuple[Condition, Mark], Verdict] = {
    (C.BLOCKED, M.DUMP): V.REPORT,
    (C.BLOCKED, M.HANG): V.REPLACE,
    (C.BLOCKED, M.STALL): V.NOTHING,  # judged already, or hang_timeout said never
    (C.HALTED, M.DUMP): V.REPORT,
    (C.HALTED, M.HANG): V.REPLACE,
    (C.HALTED, M.STALL): V.NOTHING,
    (C.BUSY, M.DUMP): V.REPORT,
    (C.BUSY, M.HANG): V.NOTHING,  # it serves, if slowly
    (C.BUSY, M.STALL): V.REPLACE,
    (C.STALLED, M.DUMP): V.NOTHING,  # a few slow answers are no news
    (C.STALLED, M.HANG): V.REPORT,
    (C.STALLED, M.STALL): V.REPLACE,
}


@dataclass(frozen=True, slots=True)
class Marks:
    """The settings that a condition's age is held against, in seconds; 0 for never."""

    dump: float
    hang: float
    stall: float

    def of(self, mark: Mark) -> float:
        """The time of one of them."""
        return {Mark.DUMP: self.dump, Mark.HANG: self.hang, Mark.STALL: self.stall}[mark]


def given(elapsed: float, waited: float) -> float:
    """Return how much of a time counts, in seconds: not that in which the process was ready to run
    and `waited` for a CPU. No limit is to be passed by what the machine kept from it."""
    return max(0.0, elapsed - max(0.0, waited))


def judge(condition: Condition, age: float, marks: Marks) -> Verdict:
    """What follows from a condition that has lasted for `age` seconds."""
    if not marks.dump:
        return Verdict.NOTHING
    passed = [mark for mark in Mark if 0 < marks.of(mark) <= age]
    return max((TABLE[condition, mark] for mark in passed), default=Verdict.NOTHING)


def due(condition: Condition, verdict: Verdict, marks: Marks) -> float | None:
    """The age at which a condition comes to a verdict or a graver one; None for never."""
    if not marks.dump:
        return None
    times = [marks.of(mark) for mark in Mark if TABLE[condition, mark] >= verdict]
    return min((time for time in times if time), default=None)
