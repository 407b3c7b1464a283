"""p99 of fast requests while 3 % of all requests block their worker for 20 ms.

24 clients, 4 workers. Blocking is a sleep inside the handler (no CPU), as a synchronous database
call is. Each client asks again as soon as it is answered. Judged with a fresh connection for every
request, as clients come through a proxy without keep-alive: there a server can choose who takes
the request. With kept connections, measured too, it can only spread the connections: a request
waits for whatever its worker is doing.
"""

import random
import statistics
import time

from benchmarks import load, probe, servers
from benchmarks.outcome import Outcome
from benchmarks.session import Session

WORKERS = 4
CLIENTS = 24
BLOCKING = 0.03
SECONDS = 4.0
MEASURES = ("fresh p99", "fresh median", "kept p99", "kept median")
HEADERS = {"fresh": {"Connection": "close"}, "kept": {"Connection": "keep-alive"}}


def run(session: Session) -> Outcome:
    """Load every server in both ways, round by round."""
    outcome = Outcome(dict.fromkeys(MEASURES, "ms"))
    peers = session.among(servers.UVICORN, servers.GUNICORN, servers.GRANIAN, servers.NODE)
    wanted = [*session.among(servers.CLUSTERD), *peers]
    for number in range(session.times(5)):
        for server in wanted:
            with session.forgiving(server, outcome), session.start(server) as running:
                probe.meet(running.port, WORKERS)
                for way in HEADERS:
                    took = _load(running.port, way, number, 0.5 if session.smoke else SECONDS)
                    cuts = statistics.quantiles(took, n=100)
                    outcome.add(server.name, f"{way} p99", cuts[98] * 1e3)
                    outcome.add(server.name, f"{way} median", cuts[49] * 1e3)
                    session.say(
                        f"round {number + 1}: {server.name} {way} p99 {cuts[98] * 1e3:.1f} ms"
                        f" of {len(took)} fast requests"
                    )
    for way, target in (("fresh", 0.75), ("kept", None)):
        ours = outcome.median(servers.CLUSTERD.name, f"{way} p99")
        theirs = [outcome.median(peer.name, f"{way} p99") for peer in peers]
        best = min((value for value in theirs if value is not None), default=None)
        if ours and best:
            outcome.figure(f"p99 on {way} connections, of the best peer's", ours / best, target)
    return outcome


def _load(port: int, way: str, seed: int, seconds: float) -> list[float]:
    """The latencies of the fast requests, in seconds, connecting included."""
    chance = random.Random(seed)
    fast, block = (load.request(path, HEADERS[way]) for path in ("/", "/block"))
    took: list[float] = []
    with load.Crowd(port) as crowd:
        for _ in range(CLIENTS):
            crowd.ask(crowd.connect(), fast)
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            for report in crowd.turn(1.0):
                conn = report.conn
                if report.answer is None:
                    if conn.waiting:
                        raise ConnectionError(f"no answer: {report.error}")
                    continue
                if conn.wanted is fast:
                    took.append(report.at - conn.asked_at)
                if way == "fresh" or not report.answer.stays:
                    crowd.close(conn, reset=True)
                    conn = crowd.connect()
                crowd.ask(conn, block if chance.random() < BLOCKING else fast)
    return took
