"""Who exists: workers by row, zygotes by generation, and the tally of each slot."""

import enum
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import inf

from clusterd.fleet.backoff import Backoff
from clusterd.fleet.lifecycle import LIVE, Phase


@dataclass(slots=True)
class Worker:
    """One process in one row. `pid` is None until it said hello."""

    row: int
    slot: int
    generation: int
    born: float
    since: float  # when its phase began
    deadline: float = inf  # when its phase must have ended
    phase: Phase = Phase.BOOTING
    pid: int | None = None
    leaving: bool = False  # it asked to be replaced, and serves until it is
    recycling: bool = False  # … since it has served long enough: no fault of anybody
    asked: bool = False  # its going is our wish, not its fault
    sweeps: bool = False  # it drains as one of the last, and empties the accept queues
    accepting: bool = False  # from ready on, until it says that it drains
    condition: str = ""  # what is wrong with it (`core.vitals`), or nothing
    verdict_at: float = inf  # when it is replaced for standing still, unless …
    granted: float = 0.0  # seconds of waiting for a CPU by which its limit was put off so far
    heartbeat: int = 0  # … its row shows another than this, which it stood still at

    @property
    def live(self) -> bool:
        """Serving or about to: the plan counts on it."""
        return self.phase in LIVE


class ZygotePhase(enum.StrEnum):
    """Where a zygote is: it loads, then forks on order (or not, where that is unsafe)."""

    LOADING = "loading"
    LOADED = "loaded"
    DISMISSED = "dismissed"


@dataclass(slots=True)
class Zygote:
    """The process of one generation that imported its code."""

    generation: int
    pid: int
    since: float
    deadline: float = inf
    phase: ZygotePhase = ZygotePhase.LOADING
    granted: float = 0.0  # as a worker's
    unsafe: str = ""  # why workers import for themselves instead of being forked
    bare: bool = False  # it holds no application: it only cleans up should the master die


@dataclass(slots=True)
class Roster:
    """The one index of who exists. Messages, deaths and orders change it, nothing else."""

    workers: dict[int, Worker] = field(default_factory=dict)
    zygotes: list[Zygote] = field(default_factory=list)
    slots: dict[int, Backoff] = field(default_factory=dict)
    importing: Backoff = field(default_factory=Backoff)  # tally of zygotes that die
    renewing: Backoff = field(default_factory=Backoff)  # tally of rollouts that nobody asked for
    faults: dict[int, str] = field(default_factory=dict)  # generation → why it cannot go on
    unsafe: dict[int, str] = field(default_factory=dict)  # generation → why workers import alone
    lost: set[int] = field(default_factory=set)  # generations whose code is no longer on disk
    ever_ready: bool = False

    def by_pid(self, pid: int) -> Worker | None:
        """The worker with this pid, if it is one of ours."""
        return next((w for w in self.workers.values() if w.pid == pid), None)

    def zygote(self, generation: int) -> Zygote | None:
        """The zygote of a generation that is not on its way out."""
        return next(
            (
                z
                for z in self.zygotes
                if z.generation == generation and z.phase is not ZygotePhase.DISMISSED
            ),
            None,
        )

    def slot(self, number: int) -> Backoff:
        """The tally of a slot."""
        return self.slots.setdefault(number, Backoff())

    def live(self) -> Iterator[Worker]:
        """Workers that serve or are about to, in the order of their slots, older rows first."""
        return iter(
            sorted(
                (w for w in self.workers.values() if w.live), key=lambda w: (w.slot, w.born, w.row)
            )
        )

    def count(self, phase: Phase) -> int:
        """How many workers are in a phase."""
        return sum(w.phase is phase for w in self.workers.values())

    def free_row(self, rows: int) -> int | None:
        """The lowest row that nobody has: low rows keep the gate's column short."""
        return next((row for row in range(rows) if row not in self.workers), None)
