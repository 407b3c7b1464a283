"""What one generator process has seen since the last cut: cheap to note, whole at the end.

Counted straight into sparse histograms: a list that is folded later would stall the open loop for
a millisecond at each interval's end, which it would then measure as the server's.
"""

import resource

from clusterd.bench.interval import Interval

FAILED_FROM = 400  # statuses from here on are errors besides
EXACT, BITS = 2047, 11  # µs that are noted as they are, and the leading bits of what is more


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def rounded(micros: int) -> int:
    """Down to 11 leading bits, which is what a histogram of three digits keeps.

    Without it a slow server makes as many different latencies as requests, and to say them takes
    milliseconds, in which nothing is sent.
    """
    rest = micros.bit_length() - BITS
    return micros >> rest << rest


def _held() -> float:
    """Seconds that we waited for a core; source: schedstat, sched-stats.rst. 0 if it is not told.

    A generator that others keep from its core is too slow like a busy one, and looks idle.
    """
    try:
        with open("/proc/self/schedstat", "rb") as file:
            return int(file.read().split()[1]) / 1e9
    except (OSError, IndexError):
        return 0.0


class Tally:
    """Answers, errors and lags; `cut` hands over those of an interval and begins the next."""

    __slots__ = (
        "_cpu",
        "_held",
        "_total",
        "bytes",
        "drained",
        "errors",
        "lag",
        "latency",
        "requests",
        "sent",
        "spun",
        "sse_events",
        "texts",
        "waited",
    )

    def __init__(self) -> None:
        self.requests = self.bytes = self.waited = self.spun = self._total = 0
        self.sse_events = self.drained = 0
        self.sent = 0  # since the start, and not since the last cut
        self.errors: dict[str, int] = {}
        self.texts: dict[str, str] = {}  # the last of each kind
        self.latency: dict[int, int] = {}  # µs to how often
        self.lag: dict[int, int] = {}
        self._cpu, self._held = _cpu(), _held()

    def begin(self) -> None:
        """What was before the start does not count."""
        self.cut(0, connections=0, behind=0)
        self.sent = self._total = 0
        self.texts = {}

    @property
    def total(self) -> int:
        """Answers since the start."""
        return self._total + self.requests

    def answered(self, status: int, size: int, latency: int) -> None:
        """An answer is whole: its size in bytes, and its latency in ns."""
        self.requests += 1
        self.bytes += size
        micros = latency // 1000
        if micros > EXACT:
            micros = rounded(micros)
        counts = self.latency
        counts[micros] = counts.get(micros, 0) + 1
        if status >= FAILED_FROM:
            self.failed(f"status {status}")

    def counted(self, status: int, size: int) -> None:
        """An answer whose latency says nothing about the server: a slow client's."""
        self.requests += 1
        self.bytes += size
        if status >= FAILED_FROM:
            self.failed(f"status {status}")

    def failed(self, kind: str, count: int = 1, text: str = "") -> None:
        """Requests, or attempts to connect, came to nothing; `text` says why, for people."""
        self.errors[kind] = self.errors.get(kind, 0) + count
        if text:
            self.texts[kind] = text

    def late(self, lag: int) -> None:
        """A request was sent so many ns after it could have been."""
        micros = lag // 1000
        if micros > EXACT:
            micros = rounded(micros)
        counts = self.lag
        counts[micros] = counts.get(micros, 0) + 1

    def cut(self, number: int, *, connections: int, behind: int) -> Interval:
        """All since the last cut, as interval `number`."""
        cpu, held = _cpu(), _held()
        made = Interval(
            number=number,
            requests=self.requests,
            bytes=self.bytes,
            errors=self.errors,
            latency=self.latency,
            lag=self.lag,
            behind=behind,
            connections=connections,
            sse_events=self.sse_events,
            cpu=cpu - self._cpu,
            held=held - self._held,
            spun=self.spun / 1e9,
            drained=self.drained,
            waited=self.waited,
        )
        self._total += self.requests
        self.requests = self.bytes = self.waited = self.spun = self.sse_events = 0
        self.drained = 0
        self.errors, self.latency, self.lag = {}, {}, {}
        self._cpu, self._held = cpu, held
        return made
