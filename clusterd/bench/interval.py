"""What one generator process saw in a quarter of a second: plain data, sent as a line of JSON."""

from dataclasses import dataclass, field

INTERVAL = 0.25  # seconds

# Kinds of errors, the keys of `Interval.errors`; a status is its own kind, as "status 503".
CONNECT, LIMIT, RESET, CLOSED, TIMEOUT, TLS, PROTOCOL = (
    "connect",  # refused, unreachable
    "limit",  # ours: no port or no descriptor was left to connect with
    "reset",  # by the peer, with a request under way
    "closed",  # orderly, but in the middle of an answer or instead of one
    "timeout",
    "tls",
    "protocol",  # what came is no answer, or not the one that was asked for
)


@dataclass(slots=True)
class Interval:
    """Interval number `number`, counted from the common start, of one process.

    Latencies and lags are sparse histograms: microseconds to how often. A latency is an answered
    request's (any status; statuses from 400 on are errors besides), noted in the interval in which
    the answer was whole. Slow clients' requests are counted, but have no latency.
    """

    number: int
    requests: int = 0  # answered
    bytes: int = 0  # received
    errors: dict[str, int] = field(default_factory=dict)
    latency: dict[int, int] = field(default_factory=dict)
    lag: dict[int, int] = field(default_factory=dict)  # open loop: sent after it could have been by
    behind: int = 0  # open loop: due but not sent at the interval's end
    connections: int = 0  # open at its end
    sse_events: int = 0  # server-sent events received; `latency` has the first of a stream
    cpu: float = 0.0  # seconds of CPU time that the process used in it
    held: float = 0.0  # seconds that it was ready to run and others had the cores
    spun: float = 0.0  # seconds of `cpu` spent waiting for what was due next (open loop)
    drained: int = 0  # of `requests`, those answered after the end (open loop, in its last one)
    waited: int = 0  # open loop: sent late because all connections were busy; no lag of ours
