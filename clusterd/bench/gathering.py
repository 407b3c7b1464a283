"""From what each generator reports to the moments of a turn, and its figures: pure sums."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from clusterd.bench.histogram import Histogram
from clusterd.bench.interval import CONNECT, INTERVAL, Interval
from clusterd.bench.orders import Done
from clusterd.bench.results import GeneratorUse, Moment, Turn

DESERTED = 1.0  # seconds without an answer and with refused connections: it will not come back


@dataclass(slots=True)
class Gathering:
    """The intervals of `processes` generators, by number."""

    processes: int
    moments: list[Moment] = field(default_factory=list)  # whole ones, in their order
    _reported: list[list[Interval]] = field(default_factory=list)  # by process
    _over: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._reported = [[] for _ in range(self.processes)]

    def add(self, process: int, interval: Interval) -> None:
        """A process reports its next interval."""
        self._reported[process].append(interval)

    def over(self, process: int) -> None:
        """Nothing more will come from it, and nobody is to wait for that."""
        self._over.add(process)

    def whole(self) -> list[Moment]:
        """The moments that have become whole since: reported by all that are still there."""
        awaited = [len(own) for index, own in enumerate(self._reported) if index not in self._over]
        known = min(awaited) if awaited else max(map(len, self._reported))
        new = [self._moment(number) for number in range(len(self.moments), known)]
        self.moments.extend(new)
        return new

    def _of(self, number: int) -> list[Interval]:
        return [own[number] for own in self._reported if number < len(own)]

    def _moment(self, number: int) -> Moment:
        made, errors = Moment(number), Counter[str]()
        for one in self._of(number):
            made.requests += one.requests
            made.drained += one.drained
            made.bytes += one.bytes
            made.behind += one.behind
            made.connections += one.connections
            made.cpu += one.cpu
            made.latency.record(one.latency)
            one.latency = {}  # kept once: of an hour, they are what fills the memory
            errors.update(one.errors)
        made.errors = dict(errors)
        return made

    def sum_up(self, turn: Turn, ended: float) -> None:
        """Fill in the figures of the moments that the warm-up has left, up to `ended`, in seconds
        after the start."""
        turn.moments = self.moments
        turn.seconds = max(0.0, ended - turn.warmup * INTERVAL)
        errors, lag = Counter[str](), Histogram()
        for moment in self.moments[turn.warmup :]:
            turn.requests += moment.requests
            turn.drained += moment.drained
            turn.bytes += moment.bytes
            turn.latency.add(moment.latency)
            turn.connections = max(turn.connections, moment.connections)
            errors.update(moment.errors)
            for one in self._of(moment.number):
                lag.record(one.lag)
                turn.waited += one.waited
                turn.sse_events += one.sse_events
        turn.errors = dict(errors)
        turn.lag = lag if turn.load.rate else None
        turn.generator = self._use(turn)

    def _use(self, turn: Turn) -> GeneratorUse:
        """What the generators used; what one spent waiting for a due time was not needed."""
        measured = [own[turn.warmup : len(self.moments)] for own in self._reported]
        busy = [sum(one.cpu - one.spun for one in own) for own in measured]
        wanted = [sum(one.cpu - one.spun + one.held for one in own) for own in measured]
        return GeneratorUse(
            processes=self.processes,
            cpu=sum(one.cpu for own in measured for one in own),
            busiest=max(busy) / turn.seconds if turn.seconds else 0.0,
            wanted=max(wanted) / turn.seconds if turn.seconds else 0.0,
        )


def sum_ends(turn: Turn, ends: Iterable[Done]) -> None:
    """What the generators say at their end."""
    for end in ends:
        turn.unanswered += end.unanswered
        turn.texts.update(end.texts)


def whole_intervals(moments: Sequence[Moment], ended: float) -> Sequence[Moment]:
    """Without the last one where it is shorter than the others."""
    return moments[: int(ended / INTERVAL + 1e-9)]


def deserted(moments: Sequence[Moment]) -> bool:
    """Whether for the last second nobody has answered, and connections were refused."""
    last = moments[-round(DESERTED / INTERVAL) :]
    return len(moments) > len(last) and all(
        one.errors.get(CONNECT) and not one.requests and not one.connections for one in last
    )
