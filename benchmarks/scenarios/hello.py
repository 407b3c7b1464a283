"""CPU time that a plain "hello" request costs a worker.

Keep-alive connections ask again as soon as they are answered, from one process. The worker's
user + system time over the requests answered meanwhile (see `turns`). Twice: over one connection,
where every request finds the worker waiting and the wake-up is part of its cost, and over 16
("busy"), where the worker never sleeps.
The floor, raw uvloop, answers canned bytes without parsing; it is a target over one connection
only, since busy even a sketch of httptools on uvloop without any check costs 2.1 times as much.
freastal speaks ASGI from C alone, HTTP included.
"""

from benchmarks import load, servers
from benchmarks.clients import Ask
from benchmarks.outcome import Outcome
from benchmarks.session import Session
from benchmarks.turns import Contest, Measure

HELLO = Ask(load.request("/"))
MEASURES = {"hello": Measure(HELLO), "hello busy": Measure(HELLO, clients=16)}
TARGETS = {"uvicorn": 0.50, "granian": 0.65, "node": 0.90, "freastal": 1.4}


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
        servers.FREASTAL,
    )
    Contest(session, outcome, [(server, "plain") for server in wanted], MEASURES).hold(5, 6)
    for measure in MEASURES:
        floor = 2.0 if measure == "hello" else None
        for peer, target in [*TARGETS.items(), (servers.RAW.name, floor)]:
            ratio = outcome.ratio(measure, servers.CLUSTERD.name, peer)
            outcome.figure(f"{measure}, of {peer}", ratio, target)
    return outcome
