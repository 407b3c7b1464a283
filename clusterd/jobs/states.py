"""The life of a job: one keyed table of states and events, which a test proves total."""

import enum


class State(enum.IntEnum):
    """Where a job is. Stores keep the number; those below COMPLETED are unfinished."""

    SCHEDULED = 0  # due later, also while it waits for a retry
    BLOCKED = 1  # waits for other jobs, or for a place in its group
    AVAILABLE = 2  # may be claimed
    RUNNING = 3  # claimed: has an owner, a token and a lease
    COMPLETED = 4
    DISCARDED = 5  # failed for good
    CANCELLED = 6
    EXPIRED = 7  # was not begun in time

    @property
    def label(self) -> str:
        """Return the name that commands and metrics show."""
        return self.name.lower()


class Event(enum.StrEnum):
    """What can happen to a job."""

    DUE = "due"  # its time has come
    UNBLOCKED = "unblocked"  # what it waited for is over
    CLAIMED = "claimed"  # a worker took it
    SUCCEEDED = "succeeded"
    FAILED = "failed"  # and attempts are left: again after the backoff
    EXHAUSTED = "exhausted"  # failed and no attempt is left, or must not be tried again
    RETURNED = "returned"  # handed back unfinished by a worker that leaves: counts no attempt
    LOST = "lost"  # its worker's process ended, or its lease ran out: counts no attempt
    POISONED = "poisoned"  # lost so often that it is not tried again
    CANCEL = "cancel"
    EXPIRE = "expire"  # its `expires` has passed before it was begun
    RUN_AGAIN = "run_again"  # an operator wants it once more
    RUN_NOW = "run_now"  # an operator does not want to wait


S, E = State, Event

# (state, event) → the next state. What is not here is refused, and changes nothing.
NEXT: dict[tuple[State, Event], State] = {
    (S.SCHEDULED, E.DUE): S.AVAILABLE,
    (S.SCHEDULED, E.RUN_NOW): S.AVAILABLE,
    (S.SCHEDULED, E.CANCEL): S.CANCELLED,
    (S.SCHEDULED, E.EXPIRE): S.EXPIRED,
    (S.BLOCKED, E.UNBLOCKED): S.AVAILABLE,
    (S.BLOCKED, E.CANCEL): S.CANCELLED,
    (S.BLOCKED, E.EXPIRE): S.EXPIRED,
    (S.AVAILABLE, E.CLAIMED): S.RUNNING,
    (S.AVAILABLE, E.CANCEL): S.CANCELLED,
    (S.AVAILABLE, E.EXPIRE): S.EXPIRED,
    (S.RUNNING, E.SUCCEEDED): S.COMPLETED,
    (S.RUNNING, E.FAILED): S.SCHEDULED,
    (S.RUNNING, E.EXHAUSTED): S.DISCARDED,
    (S.RUNNING, E.RETURNED): S.AVAILABLE,
    (S.RUNNING, E.LOST): S.AVAILABLE,
    (S.RUNNING, E.POISONED): S.DISCARDED,
    (S.RUNNING, E.CANCEL): S.CANCELLED,
    (S.COMPLETED, E.RUN_AGAIN): S.AVAILABLE,
    (S.DISCARDED, E.RUN_AGAIN): S.AVAILABLE,
    (S.CANCELLED, E.RUN_AGAIN): S.AVAILABLE,
    (S.EXPIRED, E.RUN_AGAIN): S.AVAILABLE,
}

# After these an attempt counts; after those the job would run again.
COUNTED = (E.SUCCEEDED, E.FAILED, E.EXHAUSTED)
AGAIN = (E.FAILED, E.RETURNED, E.LOST)

UNFINISHED = tuple(state for state in State if state < State.COMPLETED)
FINISHED = tuple(state for state in State if state >= State.COMPLETED)


def sources(event: Event) -> tuple[State, ...]:
    """Return the states in which an event may happen: stores put them into their WHERE."""
    return tuple(state for state, possible in NEXT if possible is event)
