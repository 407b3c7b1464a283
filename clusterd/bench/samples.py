"""What a server used between two times, from looks at it that were taken more or less then.

Looks are due at the ends of intervals, and come some milliseconds late on a busy machine. So each
carries its own time, and what was used until the end of an interval lies between its neighbours.
"""

import time
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from clusterd.bench.insight import Insight
from clusterd.bench.results import ServerUse
from clusterd.bench.tree import Tree, Usage, pss
from clusterd.core.errors import ClusterdError

_SHARE = 0.005  # of the time that may go into looking, since looking takes it from who serves


@dataclass(slots=True)
class Series:
    """A sum that grows, by time: exact at the times that were noted, straight between them."""

    at: list[float] = field(default_factory=list)
    value: list[float] = field(default_factory=list)

    def note(self, at: float, value: float) -> None:
        """Times come in order; a sum that fell, as of a worker that began anew, is held."""
        self.at.append(at)
        self.value.append(max(value, self.value[-1]) if self.value else value)

    def when(self, at: float) -> float:
        """Its value then; before the first and after the last it is flat."""
        after = bisect_left(self.at, at)
        if after == 0:
            return self.value[0] if self.value else 0.0
        if after == len(self.at):
            return self.value[-1]
        begin, end = self.at[after - 1], self.at[after]
        share = (at - begin) / (end - begin)
        return self.value[after - 1] + share * (self.value[after] - self.value[after - 1])

    def between(self, begin: float, end: float) -> float:
        """How much it grew."""
        return self.when(end) - self.when(begin)


class Sparing:
    """Does something now and then: so seldom that it costs no more than its share of the time."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._next = 0.0

    def due(self) -> bool:
        """Whether it is time again."""
        return self._clock() >= self._next

    def did(self, began: float) -> None:
        """It was done just now."""
        now = self._clock()
        self._next = now + (now - began) / _SHARE


class Samples:
    """Of one server during one turn."""

    def __init__(self, tree: Tree, insight: Insight) -> None:
        self._tree = tree
        self._insight = insight
        self._cpu = Series()
        self._by_worker: dict[int, Series] = {}
        self._requests: dict[int, Series] = {}
        self._pss = 0
        self._processes = 0
        self._workers: set[int] = set()
        self._seldom = Sparing()
        self._asked = Sparing()

    def take(self, *, last: bool = False) -> None:
        """Look now. Memory and the server's own counts cost more, so not each time; `last`: now."""
        usage = self._tree.look()
        self._note_cpu(usage)
        self._processes = max(self._processes, len(usage.alive))
        if last or self._seldom.due():
            began = time.monotonic()
            self._pss = max(self._pss, pss(one.pid for one in usage.alive))
            self._seldom.did(began)
        if last or self._asked.due():
            began = time.monotonic()
            self._ask()
            self._asked.did(began)

    def _note_cpu(self, usage: Usage) -> None:
        self._cpu.note(usage.at, usage.cpu)
        for pid, used in usage.by_pid.items():
            self._of(self._by_worker, pid).note(usage.at, used)

    def _of(self, series: dict[int, Series], pid: int) -> Series:
        """A process's. One that came meanwhile began with nothing when we looked before."""
        if pid not in series:
            series[pid] = Series()
            if len(self._cpu.at) > 1:
                series[pid].note(self._cpu.at[-2], 0.0)
        return series[pid]

    def _ask(self) -> None:
        """The server's own counts. One that does not tell just now is asked again later."""
        with suppress(ClusterdError, OSError):
            self._workers.update(self._insight.workers())
            counts = self._insight.requests()
            at = time.monotonic()
            for pid, count in counts.items():
                self._of(self._requests, pid).note(at, count)

    def between(self, begin: float, end: float) -> ServerUse:
        """What was used, times by time.monotonic()."""
        by_worker = _grown(self._by_worker, begin, end)
        requests = {pid: round(count) for pid, count in _grown(self._requests, begin, end).items()}
        return ServerUse(
            cpu=self._cpu.between(begin, end),
            cpu_by_worker={pid: cpu for pid, cpu in by_worker.items() if pid in self._workers},
            requests_by_worker=requests,
            pss=self._pss,
            processes=self._processes,
        )


def _grown(series: Mapping[int, Series], begin: float, end: float) -> dict[int, float]:
    return {pid: one.between(begin, end) for pid, one in series.items()}


def ends(duration: float, interval: float) -> Sequence[float]:
    """When to look, in seconds after the start: at its end and every interval's, and the start."""
    whole = int(duration / interval + 1e-9)
    found = [number * interval for number in range(whole + 1)]
    return found if duration - found[-1] < 1e-9 else [*found, duration]
