"""From an event stream's start message to its head at the client, while no event comes.

One worker, one client, a new connection per stream. The application stamps the start message with
the monotonic clock, which all processes of a machine share, and sends nothing after it. "at once":
the start comes in the first step of the application's task; "later": after one wait.
"""

import socket
import time

from benchmarks import servers
from benchmarks.outcome import Outcome
from benchmarks.session import Session

STREAMS = 200
LIMIT = 10.0  # seconds until a head is given up: some servers send it with the first event
PATHS = {"at once": "/silent", "later": "/silent-later"}


def run(session: Session) -> Outcome:
    """Ask every server for silent streams."""
    outcome = Outcome({f"{when}, {rank}": "ms" for when in PATHS for rank in ("median", "worst")})
    streams = session.times(STREAMS, tiny=5)
    for server in session.among(servers.CLUSTERD, servers.UVICORN, servers.GRANIAN):
        with session.forgiving(server, outcome), session.start(server, workers=1) as running:
            running.wait_answering()
            for when, path in PATHS.items():
                took = sorted(_first_byte(running.port, path) for _ in range(streams))
                median, worst = took[len(took) // 2], took[-1]
                outcome.add(server.name, f"{when}, median", median)
                outcome.add(server.name, f"{when}, worst", worst)
                session.say(f"{server.name} {when}: median {median:.2f} ms, worst {worst:.2f} ms")
    for when in PATHS:
        median_of_ours = outcome.median(servers.CLUSTERD.name, f"{when}, median")
        outcome.figure(f"head of a silent stream, {when}", median_of_ours, 2, "ms")
    return outcome


def _first_byte(port: int, path: str) -> float:
    """Return the ms from the start message to the whole head at the client."""
    with socket.create_connection(("127.0.0.1", port), timeout=LIMIT) as sock:
        sock.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        head = b""
        while b"\r\n\r\n" not in head:
            piece = sock.recv(4096)
            if not piece:
                raise ConnectionError(f"the stream ended: {head!r}")
            head += piece
        seen = time.monotonic_ns()
    _, _, rest = head.lower().partition(b"x-began: ")
    return (seen - int(rest.partition(b"\r\n")[0])) / 1e6
