"""What is wanted. Signals, commands and rollouts change the goal; nothing else may spawn or retire.

"Wanted" and "is" are different data: the roster never says what ought to be.
"""

import enum
from dataclasses import dataclass, replace
from math import inf


class Mode(enum.StrEnum):
    """The wish for the whole cluster."""

    SERVING = "serving"
    PAUSED = "paused"
    STOPPING = "stopping"


@dataclass(frozen=True, slots=True)
class Patience:
    """How long each thing may take, in seconds, and how many workers may start at once."""

    spawn: float = 10.0  # from the order to hello; then the zygote is dropped
    startup: float = 60.0
    graceful: float = 25.0
    overtime: float = 3.0  # after the graceful timeout, before SIGKILL
    min_ready: float = 1.0
    boot_stop: float = 5.0  # for a worker that is retired before it was ready
    dismissal: float = 5.0  # for a zygote to leave
    never_ready: float = 60.0  # of early deaths, before giving up
    tries: int = 3  # early deaths in every slot, before giving up
    parallel: bool = False  # start without waiting for the first worker to become ready
    at_once: int = 16  # workers that may be starting at the same time


@dataclass(frozen=True, slots=True)
class Goal:
    """The state that the plan works towards."""

    size: int
    stable: int = 1  # the generation known to be good, or at first start the only one
    candidate: int | None = None  # the generation that is rolling in
    proven: bool = False  # its canary lived through min_ready: swap slot by slot
    swift: bool = False  # the candidate has served before: swap all slots at once
    kept: int | None = None  # the previous generation, kept for a rollback …
    kept_until: float = inf  # … until then
    mode: Mode = Mode.SERVING
    resuming: bool = False  # a reload ended a pause: slots wait for the candidate, not the old code
    sweep: bool = False  # stopping, and only a worker yet to come can empty the accept queues
    quick: bool = False  # leave at once instead of draining
    why: str = ""  # what to tell those who are retired

    def rolling(self, generation: int, swift: bool = False) -> "Goal":
        """Return the same goal with a generation rolling in.

        A new generation has to prove itself by a canary. One that has served before (`swift`)
        does not.
        """
        return replace(self, candidate=generation, proven=swift, swift=swift)

    @property
    def generations(self) -> set[int]:
        """The generations whose zygotes are wanted."""
        return {g for g in (self.stable, self.candidate, self.kept) if g is not None}
