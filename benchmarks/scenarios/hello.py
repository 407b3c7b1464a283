"""CPU time that a plain "hello" request costs a worker, with few headers and with a browser's.

One worker per server; keep-alive connections ask again as soon as they are answered, from one
process. The worker's user + system time (its process CPU clock, all threads) over the requests
answered meanwhile. Twice: over one connection, where every request finds the worker waiting and
the wake-up is part of its cost, and over 16 ("busy"), where the worker never sleeps.
All servers are up at once and take turns, so that what the machine's speed does in the meantime
hits them alike; every few turns all are started afresh. Ratios are taken within a turn and their
median is judged. The floor, raw uvloop, answers canned bytes without parsing; it is a target over
one connection only, since busy even a sketch of httptools on uvloop without any check costs 2.1
times as much.
"""

from contextlib import ExitStack

from benchmarks import load, proc, servers
from benchmarks.outcome import Outcome
from benchmarks.servers import Running, Server
from benchmarks.session import Session

TURNS = 6  # between two fresh starts
PASSES = 4  # below the thousand requests after which a connection may be closed
REQUESTS = 900
BUSY = 16
KINDS = {"hello": load.request("/"), "browser": load.request("/", load.BROWSER)}


MEASURES = {
    f"{kind}{busy}": (asked, connections)
    for kind, asked in KINDS.items()
    for busy, connections in (("", 1), (" busy", BUSY))
}


def run(session: Session) -> Outcome:
    """Measure every server, turn by turn."""
    outcome = Outcome(dict.fromkeys(MEASURES, "µs"))
    wanted = session.among(
        servers.RAW,
        servers.CLUSTERD,
        servers.UVICORN,
        servers.GRANIAN,
        servers.GUNICORN,
        servers.NODE,
    )
    for number in range(session.times(5)):
        _round(session, wanted, outcome)
        for server in wanted:
            said = [f"{kind} {outcome.median(server.name, kind) or 0:.1f} µs" for kind in MEASURES]
            session.say(f"round {number + 1}: {server.name} so far {', '.join(said)}")
    ours = servers.CLUSTERD.name
    for busy in ("", " busy"):
        hello, browser = f"hello{busy}", f"browser{busy}"
        floor = None if busy else 2.0
        outcome.figure(f"{hello}, of uvicorn", outcome.ratio(hello, ours, "uvicorn"), 0.50)
        outcome.figure(f"{hello}, of granian", outcome.ratio(hello, ours, "granian"), 0.65)
        outcome.figure(f"{hello}, of raw uvloop", outcome.ratio(hello, ours, "raw-uvloop"), floor)
        outcome.figure(f"{browser}, of uvicorn", outcome.ratio(browser, ours, "uvicorn"), 0.50)
    return outcome


def _round(session: Session, wanted: list[Server], outcome: Outcome) -> None:
    """Start all, warm them, and let them take turns."""
    passes = 1 if session.smoke else PASSES
    with ExitStack() as stack:
        started: list[tuple[Running, int]] = []
        for server in wanted:
            running = stack.enter_context(session.start(server, workers=1))
            started.append((running, running.only_worker()))
            load.saturate(running.port, KINDS["hello"], BUSY, passes * REQUESTS)
        for _ in range(2 if session.smoke else TURNS):
            for measure, (asked, connections) in MEASURES.items():
                for running, pid in started:
                    before = proc.cpu_seconds(pid)
                    for _ in range(passes):
                        load.saturate(running.port, asked, connections, REQUESTS)
                    cost = (proc.cpu_seconds(pid) - before) / (passes * (REQUESTS + connections))
                    outcome.add(running.server.name, measure, cost * 1e6)
