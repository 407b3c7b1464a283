"""Requests that fail at a stop (SIGTERM) under 24 keep-alive clients of an app that blocks 20 ms.

2 workers. Each client asks again as soon as it has its response, over the connection that it has
or, where the server said that it closes, over a new one; a client that is refused leaves. A
request fails when its connection was accepted and is reset or closed without a response, or when
the response is not a 200. The time is that from the signal to the exit of the server.
"""

import os
import signal
import time

from benchmarks import load, proc, servers
from benchmarks.outcome import Outcome
from benchmarks.servers import Running
from benchmarks.session import Session

WORKERS = 2
CLIENTS = 24
WARM = 4 * CLIENTS  # responses before the signal
LIMIT = 60.0  # seconds until a stop is given up; some servers wait 30 for a graceful one
LATE = 4.0  # seconds in which a client whose handshake was dropped finds the port closed
ASK = load.request("/block")


class Clients:
    """The clients of one server, until they are refused."""

    def __init__(self, crowd: load.Crowd) -> None:
        self._crowd = crowd
        self.left = CLIENTS
        self.responses = 0
        self.failed: dict[str, int] = {}
        for _ in range(CLIENTS):
            crowd.ask(crowd.connect(), ASK)

    def turn(self) -> None:
        """Let them go on for a moment."""
        for report in self._crowd.turn(0.005):
            self._take(report)

    def _take(self, report: load.Report) -> None:
        conn, answer = report.conn, report.answer
        if answer is None:
            self._lose(report)
            return
        self.responses += 1
        if answer.status != 200:
            self._fail(str(answer.status))
        if answer.stays:
            self._crowd.ask(conn, ASK)
        else:
            self._crowd.close(conn)
            self._crowd.ask(self._crowd.connect(), ASK)

    def _lose(self, report: load.Report) -> None:
        if report.error == "ECONNREFUSED":
            self.left -= 1
            return
        self._fail(report.error)
        self._crowd.ask(self._crowd.connect(), ASK)

    def _fail(self, error: str) -> None:
        self.failed[error] = self.failed.get(error, 0) + 1


def run(session: Session) -> Outcome:
    """Stop every server again and again."""
    outcome = Outcome({"failed": "", "stop": "s"})
    wanted = session.among(
        servers.CLUSTERD, servers.UVICORN, servers.GUNICORN, servers.GRANIAN, servers.NODE
    )
    stops = session.times(5, tiny=1)
    for server in wanted:
        with session.forgiving(server, outcome):
            for number in range(stops):
                with session.start(server, workers=WORKERS) as running:
                    _stop(session, running, outcome, number)
    ours = servers.CLUSTERD.name
    if failed := outcome.of(ours, "failed"):
        what = f"failed requests over {stops} stops under {CLIENTS} clients"
        outcome.figure(what, sum(failed), 0, exact=True)
        outcome.figure(f"such a stop, median of {stops}", outcome.median(ours, "stop"), 1, "s")
    return outcome


def _stop(session: Session, running: Running, outcome: Outcome, number: int) -> None:
    running.wait_answering()
    with load.Crowd(running.port) as crowd:
        clients = Clients(crowd)
        until = time.perf_counter() + LIMIT
        while clients.responses < WARM:
            clients.turn()
            if time.perf_counter() > until:
                raise TimeoutError("the clients are not answered")
        begun = time.perf_counter()
        os.kill(running.root, signal.SIGTERM)
        while proc.alive(running.root):
            clients.turn()
            if time.perf_counter() > begun + LIMIT:
                raise TimeoutError("the server does not stop")
        took = time.perf_counter() - begun
        while clients.left and time.perf_counter() < begun + took + LATE:
            clients.turn()
    failed = sum(clients.failed.values())
    outcome.add(running.server.name, "failed", failed)
    outcome.add(running.server.name, "stop", took)
    name = running.server.name
    session.say(f"stop {number + 1}: {name} {took:.2f} s, failed {failed} {clients.failed or ''}")
