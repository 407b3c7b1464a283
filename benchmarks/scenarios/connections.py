"""What a plain "hello" request costs as connections grow from 8 to 4,096, one worker.

All connections ask again as soon as they are answered. Throughput per core is what the CPU time of
a request allows (the rates shown beside it share the machine with the client); it is judged by its
worst, of its best, over all numbers of connections. Connecting is not measured (see `turns`).
"""

from benchmarks import load, proc, servers
from benchmarks.clients import Ask
from benchmarks.outcome import Outcome
from benchmarks.session import Session
from benchmarks.turns import Contest, Measure

COUNTS = (8, 64, 512, 4096)
REQUESTS = 8_192  # two each where there are most
SPARE = 500  # descriptors that client and server need besides


def run(session: Session) -> Outcome:
    """Measure every server with every number of connections, turn by turn."""
    hello = Ask(load.request("/"))
    counts = COUNTS[:-1] if session.smoke else COUNTS
    measures = {f"{count:,}": Measure(hello, count, REQUESTS) for count in counts}
    rates = {f"{name} rate": "/s" for name in measures}
    outcome = Outcome({**dict.fromkeys(measures, "µs"), **rates})
    wanted = session.among(
        servers.CLUSTERD_ROOMY,
        servers.UVICORN_PATIENT,
        servers.GRANIAN_ROOMY,
        servers.NODE,
    )
    with proc.descriptors(counts[-1] + SPARE):
        Contest(session, outcome, [(server, "plain") for server in wanted], measures).hold(6, 2)
    for server in wanted:
        costs = [cost for name in measures if (cost := outcome.median(server.name, name))]
        if len(costs) == len(measures):
            kept = min(costs) / max(costs)
            name = server.kind or server.name
            what = f"throughput per core, 8 to {counts[-1]:,} connections, worst of best, {name}"
            outcome.figure(what, kept, 0.8 if server.is_ours else None, at_least=True)
    return outcome
