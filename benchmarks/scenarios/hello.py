"""CPU time that a plain "hello" request costs a worker, with few headers and with a browser's.

One worker per server; 16 keep-alive connections ask again as soon as they are answered, from one
process. The worker's user + system time (its process CPU clock, all threads) over the requests
answered meanwhile. All servers are up at once and take turns of 5,000 requests, so that what the
machine's speed does in the meantime hits them alike; every few turns all are started afresh.
Ratios are taken within a turn and their median is judged. The floor, raw uvloop, answers canned
bytes without parsing.
"""

from contextlib import ExitStack

from benchmarks import load, proc, servers
from benchmarks.outcome import Outcome
from benchmarks.servers import Running, Server
from benchmarks.session import Session

CONNECTIONS = 16
REQUESTS = 5_000
WARM = 5_000
TURNS = 6  # between two fresh starts
KINDS = {"hello": load.request("/"), "browser": load.request("/", load.BROWSER)}


def run(session: Session) -> Outcome:
    """Measure every server, turn by turn."""
    outcome = Outcome({"hello": "µs", "browser": "µs"})
    wanted = session.among(
        servers.RAW,
        servers.CLUSTERD,
        servers.UVICORN,
        servers.GRANIAN,
        servers.GUNICORN,
        servers.NODE,
    )
    for number in range(session.times(7)):
        _round(session, wanted, outcome)
        for server in wanted:
            said = [f"{kind} {outcome.median(server.name, kind) or 0:.1f} µs" for kind in KINDS]
            session.say(f"round {number + 1}: {server.name} so far {', '.join(said)}")
    ours = servers.CLUSTERD.name
    outcome.figure("hello, of uvicorn", outcome.ratio("hello", ours, "uvicorn"), 0.50)
    outcome.figure("hello, of granian", outcome.ratio("hello", ours, "granian"), 0.65)
    outcome.figure("hello, of raw uvloop", outcome.ratio("hello", ours, "raw-uvloop"), 2.0)
    outcome.figure("browser, of uvicorn", outcome.ratio("browser", ours, "uvicorn"), 0.50)
    return outcome


def _round(session: Session, wanted: list[Server], outcome: Outcome) -> None:
    """Start all, warm them, and let them take turns."""
    with ExitStack() as stack:
        started: list[tuple[Running, int]] = []
        for server in wanted:
            running = stack.enter_context(session.start(server, workers=1))
            started.append((running, running.only_worker()))
            load.saturate(running.port, KINDS["hello"], CONNECTIONS, WARM)
        for _ in range(2 if session.smoke else TURNS):
            for kind, asked in KINDS.items():
                for running, pid in started:
                    before = proc.cpu_seconds(pid)
                    answers = load.saturate(running.port, asked, CONNECTIONS, REQUESTS)
                    cost = (proc.cpu_seconds(pid) - before) / answers * 1e6
                    outcome.add(running.server.name, kind, cost)
