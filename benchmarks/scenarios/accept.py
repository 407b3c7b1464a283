"""New connections a second, one request each: what the accept gate costs, 4 workers.

32 clients connect, ask once with `Connection: close`, and connect again. clusterd is measured
with its gate and without it, in turns; the ratio is taken within each round. Client and server
share the machine, so the server's CPU time per connection is recorded beside the rate.
"""

import time

from benchmarks import load, probe, proc, servers
from benchmarks.outcome import Outcome
from benchmarks.servers import Running
from benchmarks.session import Session

WORKERS = 4
CLIENTS = 32
SECONDS = 3.0
ONCE = load.request("/", {"Connection": "close"})


def run(session: Session) -> Outcome:
    """Measure every server, round by round."""
    outcome = Outcome({"connections": "/s", "server CPU": "µs each"})
    wanted = session.among(
        servers.CLUSTERD,
        servers.CLUSTERD_UNGATED,
        servers.UVICORN,
        servers.GUNICORN,
        servers.GRANIAN,
        servers.NODE,
    )
    for number in range(session.times(7)):
        for server in wanted:
            with session.forgiving(server, outcome), session.start(server) as running:
                probe.meet(running.port, WORKERS)
                _connect_all(running, 0.3)
                rate, cost = _connect_all(running, 0.5 if session.smoke else SECONDS)
                outcome.add(server.name, "connections", rate)
                outcome.add(server.name, "server CPU", cost)
                session.say(f"round {number + 1}: {server.name} {rate:.0f}/s, {cost:.0f} µs")
    ratio = outcome.ratio("connections", servers.CLUSTERD.name, servers.CLUSTERD_UNGATED.name)
    outcome.figure("new connections a second, gated against ungated", ratio, 0.9, at_least=True)
    return outcome


def _connect_all(running: Running, seconds: float) -> tuple[float, float]:
    """Connections a second, and the whole tree's CPU time for each, in µs."""
    pids = proc.tree(running.root)
    before = sum(proc.cpu_seconds(pid) for pid in pids)
    answered = 0
    with load.Crowd(running.port) as crowd:
        for _ in range(CLIENTS):
            crowd.ask(crowd.connect(), ONCE)
        begun = time.perf_counter()
        while time.perf_counter() - begun < seconds:
            for report in crowd.turn(1.0):
                if report.answer is None:
                    raise ConnectionError(f"no answer: {report.error}")
                answered += 1
                crowd.close(report.conn, reset=True)
                crowd.ask(crowd.connect(), ONCE)
        took = time.perf_counter() - begun
    spent = sum(proc.cpu_seconds(pid) for pid in pids) - before
    return answered / took, spent / answered * 1e6
