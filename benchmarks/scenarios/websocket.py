"""CPU time that a WebSocket message and its echo cost a worker: 64 clients, 100 bytes of text.

Each client sends its next message as soon as the last has come back; nobody asks for compression.
Handshakes are not measured. uvicorn runs with the library that clusterd builds on, `websockets`,
in both of its forms. Measured as `hello` is (see `turns`).
"""

from benchmarks import servers
from benchmarks.clients import Ask, text_frame, upgrade
from benchmarks.outcome import Outcome
from benchmarks.session import Session
from benchmarks.turns import Contest, Measure

ECHO = Ask(text_frame(b"0123456789" * 10), opening=upgrade())
MEASURES = {
    "echo": Measure(ECHO, 64, 6400, most=10_000),
    "echo, 1 client": Measure(ECHO, 1, 2000, most=10_000),
}
TARGETS = {servers.UVICORN_WEBSOCKETS.name: 0.8, servers.UVICORN_SANSIO.name: None, "granian": None}


def run(session: Session) -> Outcome:
    """Measure every server, turn by turn."""
    outcome = Outcome(dict.fromkeys(MEASURES, "µs"))
    wanted = session.among(
        servers.CLUSTERD,
        servers.UVICORN_WEBSOCKETS,
        servers.UVICORN_SANSIO,
        servers.GRANIAN,
    )
    Contest(session, outcome, [(server, "plain") for server in wanted], MEASURES).hold(5, 5)
    for measure in MEASURES:
        for peer, target in TARGETS.items():
            ratio = outcome.ratio(measure, servers.CLUSTERD.name, peer)
            judged = target if measure == "echo" else None
            outcome.figure(f"WebSocket {measure}, of {peer}", ratio, judged)
    return outcome
