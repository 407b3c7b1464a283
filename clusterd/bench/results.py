"""What was measured, as it is reported and stored: plain data, from the whole down to a turn.

A *report* compares *sides* (one worker, all workers, another server). Sides take *turns* under the
same load; each *round* gives every side a turn, so that what the machine does meanwhile hits all.
A turn consists of *intervals*; those of its warm-up are kept, and left out of its figures.
"""

from dataclasses import dataclass, field

from clusterd.bench.histogram import Histogram
from clusterd.bench.load import Load, Request

FORMAT = 1  # of the stored report


@dataclass(slots=True)
class Side:
    """One of what is compared. `command` is empty for a URL that somebody else serves."""

    name: str
    command: str = ""
    workers: int = 0  # 0: not known
    cpus: tuple[int, ...] = ()  # that it was pinned to; () for all


@dataclass(slots=True)
class Event:
    """Something that was done to the server, or happened to it, `at` seconds after the start."""

    at: float
    kind: str  # kill, reload, broken deploy, recovered, died
    text: str = ""


@dataclass(slots=True)
class Moment:
    """An interval of a turn, over all generators: for the timeline."""

    number: int
    requests: int = 0
    drained: int = 0  # of those, the ones that were answered after the end (open loop)
    bytes: int = 0
    errors: dict[str, int] = field(default_factory=dict)
    latency: Histogram = field(default_factory=Histogram)
    behind: int = 0
    connections: int = 0
    cpu: float = 0.0  # seconds of CPU time of all generators
    sse_events: int = 0  # server-sent events received

    @property
    def in_time(self) -> int:
        """Answers that came before the end."""
        return self.requests - self.drained


@dataclass(slots=True)
class ServerUse:
    """What the server used in the measured part of a turn."""

    cpu: float = 0.0  # seconds, of all its processes
    cpu_by_worker: dict[int, float] = field(default_factory=dict)  # by pid
    requests_by_worker: dict[int, int] = field(default_factory=dict)  # by pid; {} if not known
    pss: int = 0  # bytes, all its processes, most seen
    processes: int = 0


@dataclass(slots=True)
class GeneratorUse:
    """What driving it took in the measured part of a turn."""

    processes: int = 0
    cpu: float = 0.0  # seconds, of all of them
    busiest: float = 0.0  # share of a core that the busiest of them used, 0 to 1
    wanted: float = 0.0  # that one would have used, had it had a core whenever it was ready to run
    cpus: tuple[int, ...] = ()  # pinned to; () for all
    shared: bool = False  # they and the server could run on the same cores


@dataclass(slots=True)
class Turn:
    """One side under one load, once. Figures are of the measured part, after the warm-up."""

    side: str
    round: int
    load: Load
    seconds: float = 0.0  # of the measured part
    warmup: int = 0  # intervals cut off at the front
    requests: int = 0  # answered
    drained: int = 0  # open loop: of those, the ones that were answered after the end
    bytes: int = 0
    errors: dict[str, int] = field(default_factory=dict)
    latency: Histogram = field(default_factory=Histogram)
    lag: Histogram | None = None  # open loop: how long after it was due a request was sent
    connections: int = 0  # most held at once
    sse_events: int = 0  # server-sent events received; `requests` counts the streams
    waited: int = 0  # open loop: requests that were due while all connections were busy
    unanswered: int = 0  # under way when the turn was over: neither answers nor errors
    texts: dict[str, str] = field(default_factory=dict)  # by kind of error: what the last was
    moments: list[Moment] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    server: ServerUse | None = None  # None: not ours to look at
    generator: GeneratorUse = field(default_factory=GeneratorUse)
    doubts: list[str] = field(default_factory=list)  # why these figures are not the server's alone
    partial: bool = False  # ended before its time: interrupted, or the server died

    @property
    def throughput(self) -> float:
        """Answers a second. Those that came after the end have their latency, and are in no second:
        with thousands of connections they may be as many as all the others."""
        return (self.requests - self.drained) / self.seconds if self.seconds else 0.0

    @property
    def failed(self) -> int:
        """Errors of all kinds."""
        return sum(self.errors.values())

    @property
    def cpu_per_request(self) -> float | None:
        """The server's CPU time, in µs; None where it is not known."""
        if self.server is None or not self.requests:
            return None
        return self.server.cpu / self.requests * 1e6


@dataclass(slots=True)
class Spin:
    """What the machine itself loses when several processes compute: turns of a bare spin."""

    processes: int
    one: list[float] = field(default_factory=list)  # turns a CPU second, or a second: alone
    each: list[float] = field(default_factory=list)  # the same of each, all at once

    # Two ways to lose: a busy neighbour core makes each CPU second do less (`per_cpu`), and cores
    # that are not all ours give fewer of them (`per_second`).
    per_second: float = 1.0  # speed of `processes` by that of as many times one, wall time
    per_cpu: float = 1.0  # the same by CPU time


EARLY_END = "early end"  # what bounds a search that was broken off: a lower bound is all it has


@dataclass(slots=True)
class Search:
    """The highest rate that keeps a latency target, and how it was found."""

    slo: str
    side: str
    rate: float = 0.0  # requests a second; 0: not even the lowest kept it
    bounded_by: str = ""  # what let it go no higher: "server", "generator", see `ladders`


@dataclass(slots=True)
class Report:
    """All of a run."""

    target: str  # the application or URL, as it was given
    made: str  # ISO 8601
    versions: dict[str, str] = field(default_factory=dict)
    machine: dict[str, str] = field(default_factory=dict)
    settings: dict[str, str] = field(default_factory=dict)  # options, as they were resolved
    sides: list[Side] = field(default_factory=list)
    requests: tuple[Request, ...] = ()
    turns: list[Turn] = field(default_factory=list)
    spin: Spin | None = None
    searches: list[Search] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    interrupted: bool = False
    format: int = FORMAT

    def of(self, side: str) -> list[Turn]:
        """The turns of a side, in their order."""
        return [turn for turn in self.turns if turn.side == side]
