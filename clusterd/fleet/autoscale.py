"""How many workers a group should have, from how busy those are that it has. Pure.

What fills a worker is one of four things, and the fullest counts:

- the CPU: one core's worth is all that one interpreter can use;
- its threads, where requests run in threads: when all wait for a database, the CPU is idle and
  yet nobody else is served;
- its connections, of which it holds so many and no more;
- its event loop, when the application blocks it: then the CPU is idle, too, but the loop is late.

Requests in flight do not count where they run as tasks: thousands may wait in one loop, and a
second worker would only wait beside it. Nor is there anything to gain from another worker when
the CPUs are used up: it would only share them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import ceil, inf


@dataclass(frozen=True, slots=True)
class Rules:
    """When to change the size. Times are seconds, loads a part of 1."""

    interval: float = 5.0  # between two looks
    busy: float = 0.8  # a mean load from which there are too few …
    busy_for: float = 10.0  # … when it lasts as long as this
    growth: float = 0.25  # of the size, at least one: doubled in some forty seconds
    calm: float = 0.4  # a mean load below which there is one too many …
    calm_for: float = 60.0  # … when it lasts
    afterwards: float = 0.6  # the load with one fewer, at most: it must not come straight back
    late: float = 0.1  # a loop that is as late as this on average can take no more
    used_up: float = 0.9  # part of the CPUs from which another worker would only share them

    def faster(self, pace: float) -> "Rules":
        """The same rules where time runs so many times faster."""
        return replace(
            self,
            interval=self.interval / pace,
            busy_for=self.busy_for / pace,
            calm_for=self.calm_for / pace,
        )


@dataclass(frozen=True, slots=True)
class Reading:
    """What one ready worker's row says."""

    at: float  # when it wrote this
    cpu: float  # seconds that it used since it was born
    late: float  # seconds, of its last beat
    connections: float  # part of those that it may hold
    threads: float  # part of its threads that are busy; 0 where requests run as tasks


@dataclass(frozen=True, slots=True)
class Wish:
    """Another size, and why."""

    size: int
    reason: str


@dataclass(slots=True)
class Autoscale:
    """One group's. `judge` is called every `rules.interval` seconds, `rest` while it must not."""

    lowest: int
    highest: int
    cpus: int
    rules: Rules = field(default_factory=Rules)
    due: float = 0.0  # when to look next
    _before: Mapping[object, Reading] = field(default_factory=dict)  # by worker
    _busy_since: float = inf
    _calm_since: float = inf

    def rest(self) -> None:
        """The group changes: what was seen until now says nothing about what comes."""
        self._before = {}
        self._busy_since = self._calm_since = inf

    def judge(self, size: int, readings: Mapping[object, Reading], now: float) -> Wish | None:
        """The size that is wanted, where it is another. `readings`: of all ready workers."""
        since, self.due = now - self.rules.interval, now + self.rules.interval
        if not self.lowest <= size <= self.highest:
            within = min(max(size, self.lowest), self.highest)
            return self._change(within, f"{self.lowest} to {self.highest} are allowed")
        before, self._before = self._before, readings
        spans = [(before[who], one) for who, one in readings.items() if who in before]
        if not spans:
            return None
        load, what = self._load(spans)
        used = sum(_share(*span) for span in spans)
        few = load >= self.rules.busy and used < self.rules.used_up * self.cpus
        self._busy_since = min(self._busy_since, since) if few else inf
        self._calm_since = min(self._calm_since, since) if load < self.rules.calm else inf
        return self._grow(size, load, what, now) or self._shrink(size, load, now)

    def _grow(self, size: int, load: float, what: str, now: float) -> Wish | None:
        if size >= self.highest or now - self._busy_since < self.rules.busy_for:
            return None
        wanted = min(self.highest, size + max(1, ceil(size * self.rules.growth)))
        lasted = f"for {now - self._busy_since:.3g} s"
        return self._change(wanted, f"workers are {load:.0%} busy {lasted}, by their {what}")

    def _shrink(self, size: int, load: float, now: float) -> Wish | None:
        if size <= self.lowest or now - self._calm_since < self.rules.calm_for:
            return None
        if load * size / (size - 1) > self.rules.afterwards:
            return None
        lasted = f"for {now - self._calm_since:.3g} s"
        return self._change(size - 1, f"workers are {load:.0%} busy {lasted}")

    def _change(self, size: int, reason: str) -> Wish:
        self.rest()
        return Wish(size, reason)

    def _load(self, spans: list[tuple[Reading, Reading]]) -> tuple[float, str]:
        """The mean over the workers of what fills each most, and what that mostly is."""
        fullest = dict.fromkeys(("CPU", "threads", "connections", "event loop"), 0.0)
        total = 0.0
        for before, after in spans:
            stuck = after.at <= before.at  # no beat since: its loop has not turned at all
            late = 1.0 if stuck else after.late / self.rules.late
            fills = (_share(before, after), after.threads, after.connections, late)
            total += min(1.0, max(fills))
            for name, fill in zip(fullest, fills, strict=True):
                fullest[name] += min(1.0, fill)
        return total / len(spans), max(fullest, key=lambda name: fullest[name])


def _share(before: Reading, after: Reading) -> float:
    """The part of a core that a worker used between two of its beats."""
    span = after.at - before.at
    return (after.cpu - before.cpu) / span if span > 0 else 0.0
