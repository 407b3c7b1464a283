"""CPU time that requests of other shapes cost: browser headers, a POST, a large answer, a stream.

`browser` sends the dozen headers of a browser; `json` posts 10 kB, which the app reads whole;
`large` is answered with 1 MB in one piece; `stream` with 1 kB in a hundred pieces and without a
length. Each over one connection and over 16 ("busy"), measured as `hello` is (see `turns`).
freastal 0.0.3 takes no part: it answers a stream with a whole answer for each piece.
"""

import json

from benchmarks import load, servers
from benchmarks.clients import Ask
from benchmarks.outcome import Outcome
from benchmarks.session import Session
from benchmarks.turns import Contest, Measure

DOCUMENT = json.dumps([{"id": number, "name": "x" * 16} for number in range(1000)])[:10_000]
POST = load.request("/post", {"Content-Type": "application/json"}, DOCUMENT.encode())
# What is asked, and how often in a turn.
SHAPES = {
    "browser": (load.request("/", load.BROWSER), 3600),
    "json": (POST, 1800),
    "large": (load.request("/large"), 200),
    "stream": (load.request("/stream"), 400),
}
MEASURES = {
    f"{shape}{busy}": Measure(Ask(wanted), clients, requests)
    for shape, (wanted, requests) in SHAPES.items()
    for busy, clients in (("", 1), (" busy", 16))
}
TARGET = 0.6


def run(session: Session) -> Outcome:
    """Measure every server, turn by turn."""
    outcome = Outcome(dict.fromkeys(MEASURES, "µs"))
    wanted = session.among(servers.CLUSTERD, servers.UVICORN, servers.GRANIAN, servers.NODE)
    Contest(session, outcome, [(server, "plain") for server in wanted], MEASURES).hold(5, 4)
    for measure in MEASURES:
        for peer, target in (("uvicorn", TARGET), ("granian", None)):
            ratio = outcome.ratio(measure, servers.CLUSTERD.name, peer)
            outcome.figure(f"{measure}, of {peer}", ratio, target)
    return outcome
