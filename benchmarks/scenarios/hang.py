"""From an event loop that blocks for good to its dump, and to the replacement answering.

One worker, so that nobody else answers. A request blocks it at a moment that is random to its
pulse; the journal, followed over the control socket, tells of the dump, and a connection made
right after the request, which waits in the kernel's queue, of the replacement. Then the same with
`restart` of the blocked worker's slot, the time counted from the command.
"""

import json
import random
import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from benchmarks import load, servers
from benchmarks.outcome import Outcome
from benchmarks.servers import Running
from benchmarks.session import Session

DUMP, ANSWER, RESTART = "blocked to dump", "blocked to answer", "restart to answer"
HURRY = {"CLUSTERD_HANG_DUMP": "0.5", "CLUSTERD_HANG_TIMEOUT": "1.5"}
LIMIT = 60.0
PATIENCE = 3.0  # seconds blocked, when somebody says restart


def run(session: Session) -> Outcome:
    """Block the only worker again and again."""
    outcome = Outcome({DUMP: "s", ANSWER: "s", RESTART: "ms"})
    ours = servers.CLUSTERD.name
    env = HURRY if session.smoke else {}
    rounds = session.times(8, tiny=1)
    with session.start(servers.CLUSTERD, workers=1, env=env) as running:
        running.wait_answering()
        journal = follow(running)
        for number in range(rounds):
            time.sleep(random.random() * (0.1 if session.smoke else 1.0))
            stuck, begun = block(running)
            waiting = knock(running)
            dumped = heard(journal, "blocked") - begun
            answered = answer(waiting) - begun
            stuck.close()
            outcome.add(ours, DUMP, dumped)
            outcome.add(ours, ANSWER, answered)
            session.say(f"block {number + 1}: dump {dumped:.2f} s, answer {answered:.2f} s")
        for _ in range(rounds):
            stuck, _ = block(running)
            waiting = knock(running)
            time.sleep(0.3 if session.smoke else PATIENCE)
            begun = command(running, {"command": "restart", "slot": 0})
            outcome.add(ours, RESTART, (answer(waiting) - begun) * 1e3)
            stuck.close()
    _judge(session, outcome, ours)
    return outcome


def _judge(session: Session, outcome: Outcome, ours: str) -> None:
    dump, whole = (0.5, 1.5) if session.smoke else (5.0, 30.0)
    dumps, answers = outcome.of(ours, DUMP), outcome.of(ours, ANSWER)
    off = max(abs(each - dump) for each in dumps)
    outcome.figure(f"blocked loop to its dump: off {dump:g} s by at most", off, 0.5, "s")
    off = max(abs(each - whole) for each in answers)
    outcome.figure(f"to the replacement answering: off {whole:g} s by at most", off, 1.0, "s")
    what = "clusterd restart SLOT of a blocked worker to the answer, median"
    outcome.figure(what, outcome.median(ours, RESTART), 100.0, "ms")


def block(running: Running) -> tuple[socket.socket, float]:
    """Have the worker block for good; its client, and when it asked."""
    sock = socket.create_connection((load.HOST, running.port), LIMIT)
    begun = time.perf_counter()
    sock.sendall(load.request("/stuck"))
    sock.settimeout(0.05)
    with suppress(TimeoutError):
        sock.recv(1)  # until it has it, so that the next connection is not taken any more
    return sock, begun


def knock(running: Running) -> socket.socket:
    """A request that waits in the queue for whoever comes."""
    sock = socket.create_connection((load.HOST, running.port), LIMIT)
    sock.sendall(load.request("/pid"))
    return sock


def answer(sock: socket.socket) -> float:
    """When it was answered."""
    with sock:
        if not sock.recv(4096).startswith(b"HTTP/1.1 200"):
            raise ValueError("the request that waited was not answered")
        return time.perf_counter()


def control(running: Running) -> socket.socket:
    """A connection to the master."""
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(LIMIT)
    sock.connect(str(Path(running.folder.name, "clusterd", "clusterd.sock")))
    return sock


def command(running: Running, request: dict[str, Any]) -> float:
    """Send a command; when."""
    with control(running) as sock, sock.makefile("rw") as lines:
        begun = time.perf_counter()
        lines.write(json.dumps(request) + "\n")
        lines.flush()
        reply = json.loads(lines.readline())
        if not reply["ok"]:
            raise ValueError(f"{request}: {reply}")
        return begun


def follow(running: Running) -> Any:
    """The journal, from now on."""
    lines = control(running).makefile("rw")
    lines.write('{"command": "events", "follow": true}\n')
    lines.flush()
    return lines


def heard(journal: Any, kind: str) -> float:
    """When the next event of a kind came."""
    while json.loads(journal.readline())["kind"] != kind:
        pass
    return time.perf_counter()
