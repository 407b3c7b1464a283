"""What 10,000 idle keep-alive connections cost 2 workers: memory, and the others' latency.

Each connection has asked once. Memory is the growth of the workers' PSS while they were opened,
by their number; what the kernel holds for a socket does not count. The latency is that of 16 other
clients, each asking a hundred times a second on a kept connection: the p99 before, with the idle
ones there, and after they have left, each the median of eight half seconds, so that a moment in
which the machine was busy elsewhere decides nothing. Judged is the p99 with them by the mean of
before and after; after by before shows how much of that is noise.
Peers whose limits or time-outs would close idle connections are told to keep them.
"""

import random
import statistics
import time

from benchmarks import load, probe, proc, servers
from benchmarks.outcome import Outcome
from benchmarks.servers import Running
from benchmarks.session import Session

WORKERS = 2
CONNECTIONS = 10_000
OPENING = 128  # connections whose answer is awaited at a time
OTHERS = 16
PAUSE = 0.010  # seconds from an answer to the same client's next request, 5 ms more or less
WINDOWS = 8
SECONDS = 0.5  # each
LIMIT = 60.0  # seconds to open them all
SETTLE = 1.0  # seconds in which a server gets over those that left
SPARE = 500  # descriptors that client and server need besides
HELLO = load.request("/")
PHASES = ("before", "with", "after")
MEASURES = {
    "each": "kB",
    **{f"p99 {phase}": "ms" for phase in PHASES},
    "with by without": "",
    "after by before": "",
}


def run(session: Session) -> Outcome:
    """Burden every server, round by round."""
    outcome = Outcome(MEASURES)
    wanted = session.among(
        servers.CLUSTERD_ROOMY,
        servers.UVICORN_PATIENT,
        servers.GRANIAN_ROOMY,
        servers.NODE,
    )
    usual = 400 if session.smoke else CONNECTIONS
    with proc.descriptors(usual + SPARE) as allowed:
        count = min(usual, allowed - SPARE)
        for number in range(session.times(3)):
            for server in wanted:
                with (
                    session.forgiving(server, outcome),
                    session.start(server, workers=WORKERS) as running,
                ):
                    session.say(f"round {number + 1}: {server.name}")
                    _burden(session, running, outcome, count)
    if count < usual:
        outcome.notes.append(f"only {count} connections: descriptors are limited to {allowed}")
    ours = servers.CLUSTERD_ROOMY.name
    outcome.figure("an idle connection in a worker", outcome.median(ours, "each"), 8, "kB")
    for measure, target in (("with by without", 1.1), ("after by before", None)):
        what = f"p99 of others, {measure} {count:,} idle connections"
        outcome.figure(what, outcome.median(ours, measure), target)
    return outcome


def _burden(session: Session, running: Running, outcome: Outcome, count: int) -> None:
    name = running.server.name
    windows = 1 if session.smoke else WINDOWS
    workers = set(probe.meet(running.port, WORKERS))
    _p99(running.port, 2)  # what the first ones cost is no growth
    p99 = [_p99(running.port, windows)]
    weight = sum(proc.pss_kib(pid) for pid in workers)
    with load.Crowd(running.port) as idle:
        _open(idle, count)
        grown = sum(proc.pss_kib(pid) for pid in workers) - weight
        p99.append(_p99(running.port, windows))
        gone = sum(report.answer is None for report in idle.turn(0))
        if gone:
            raise ConnectionError(f"{gone} idle connections were closed")
        for conn in list(idle.open.values()):
            idle.close(conn, reset=True)
    time.sleep(SETTLE)
    p99.append(_p99(running.port, windows))
    before, burdened, after = p99
    outcome.add(name, "each", grown * 1.024 / count)
    for phase, value in zip(PHASES, p99, strict=True):
        outcome.add(name, f"p99 {phase}", value * 1e3)
    outcome.add(name, "with by without", burdened / statistics.mean((before, after)))
    outcome.add(name, "after by before", after / before)
    session.say(
        f"  {grown * 1.024 / count:.2f} kB each; p99 {before * 1e3:.2f} ms before,"
        f" {burdened * 1e3:.2f} with, {after * 1e3:.2f} after"
    )


def _open(idle: load.Crowd, count: int) -> None:
    """Connect so many, let each ask once, and leave them alone."""
    opened = answered = 0
    deadline = time.perf_counter() + LIMIT
    while answered < count:
        while opened < count and opened - answered < OPENING:
            # Further addresses of the loopback, in case one should run out of ports.
            idle.ask(idle.connect(source=f"127.0.0.{1 + opened // 5000}"), HELLO)
            opened += 1
        for report in idle.turn(1.0):
            if report.answer is None:
                raise ConnectionError(f"an idle connection was closed: {report.error}")
            answered += 1
        if time.perf_counter() > deadline:
            raise TimeoutError(f"{answered} of {count} connections after {LIMIT:.0f} s")


def _p99(port: int, windows: int) -> float:
    """Let others ask for a while; the 99th percentile of their latencies, in seconds.

    On new connections, since servers close those that have asked a thousand times; the first
    answer on each is not counted.
    """
    chance = random.Random(1)
    due: dict[load.Connection, float] = {}
    with load.Crowd(port) as others:
        for _ in range(OTHERS):
            others.ask(others.connect(), HELLO)
        return statistics.median(_window(others, due, chance) for _ in range(windows))


def _window(others: load.Crowd, due: dict[load.Connection, float], chance: random.Random) -> float:
    took: list[float] = []
    end = time.perf_counter() + SECONDS
    while (now := time.perf_counter()) < end:
        for conn in [conn for conn, at in due.items() if at <= now]:
            del due[conn]
            others.ask(conn, HELLO)
        soonest = min([end, *due.values()])
        for report in others.turn(soonest - time.perf_counter()):
            if report.answer is None:
                raise ConnectionError(f"another client was hung up on: {report.error}")
            if report.conn.answers > 1:
                took.append(report.at - report.conn.asked_at)
            due[report.conn] = report.at + chance.uniform(0.5, 1.5) * PAUSE
    return statistics.quantiles(took, n=100)[98]
