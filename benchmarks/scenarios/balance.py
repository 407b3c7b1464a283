"""How evenly 100 long-lived connections spread over 4 workers: the fullest by the mean.

Three ways to arrive: ten bursts of ten (each burst's answers are awaited), all at once, and one
by one. Every connection asks once who serves it and stays open. 1.00 is perfect, 4.00 means that
one worker has all of them. A server is started afresh for every round.
"""

import time
from collections import Counter

from benchmarks import load, probe, servers
from benchmarks.outcome import Outcome
from benchmarks.session import Session

WORKERS = 4
CONNECTIONS = 100
WAYS = {"bursts": 10, "at once": 100, "one by one": 1}


def run(session: Session) -> Outcome:
    """Fill every server in every way, round by round."""
    outcome = Outcome(dict.fromkeys(WAYS, "max/mean"))
    wanted = session.among(
        servers.CLUSTERD,
        servers.UVICORN,
        servers.GUNICORN,
        servers.GRANIAN,
        servers.NODE,
    )
    for number in range(session.times(5)):
        for server in wanted:
            with session.forgiving(server, outcome), session.start(server) as running:
                probe.meet(running.port, WORKERS)
                for way, burst in WAYS.items():
                    time.sleep(0.3)  # let the server see that the last connections are gone
                    uneven = _fill(running.port, burst)
                    outcome.add(server.name, way, uneven)
                    session.say(f"round {number + 1}: {server.name} {way} {uneven:.2f}")
    ours = servers.CLUSTERD.name
    for way in ("bursts", "one by one"):
        samples = outcome.of(ours, way)
        outcome.figure(f"{way}, median", outcome.median(ours, way), 1.05, "max/mean")
        outcome.figure(f"{way}, worst", max(samples, default=None), 1.08, "max/mean")
    return outcome


def _fill(port: int, burst: int) -> float:
    holders: Counter[int] = Counter()
    with load.Crowd(port) as crowd:
        while holders.total() < CONNECTIONS:
            for _ in range(burst):
                crowd.ask(crowd.connect(), probe.ASK)
            target = holders.total() + burst
            while holders.total() < target:
                for report in crowd.turn(5.0):
                    if report.answer is None:
                        raise ConnectionError(f"a connection was closed: {report.error}")
                    holders[int(report.answer.body)] += 1
        for conn in list(crowd.open.values()):
            crowd.close(conn, reset=True)
    return max(holders.values()) / (CONNECTIONS / WORKERS)
