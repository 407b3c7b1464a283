"""From exec to all 4 workers answering, with an app whose import costs 1 s of CPU and 80 MB.

A fresh connection every 5 ms asks who answers, from the moment of exec on; the figure is the time
until the fourth pid has answered. What the import alone takes is measured beside it, in a plain
interpreter, and subtracted round by round: on a busy machine 1 s of CPU takes longer than 1 s.
"""

import os
import subprocess

from benchmarks import probe, servers
from benchmarks.outcome import Outcome
from benchmarks.session import Session

WORKERS = 4
TIME_IMPORT = "import time; t = time.perf_counter(); import heavy; print(time.perf_counter() - t)"


def run(session: Session) -> Outcome:
    """Start every server, round by round."""
    outcome = Outcome({"all ready": "s", "first answer": "s", "beyond import": "s"})
    wanted = session.among(
        servers.CLUSTERD,
        servers.UVICORN,
        servers.GUNICORN,
        servers.GUNICORN_PRELOAD,
        servers.GRANIAN,
        servers.NODE,
    )
    outcome.units["import alone"] = "s"
    for number in range(session.times(5)):
        alone = _import_alone(session.environment.python)
        outcome.add("python", "import alone", alone)
        for server in wanted:
            with session.forgiving(server, outcome), session.start(server, "heavy") as running:
                answers = sorted(probe.meet(running.port, WORKERS).values())
                ready = answers[-1] - running.started
                outcome.add(server.name, "all ready", ready)
                outcome.add(server.name, "first answer", answers[0] - running.started)
                outcome.add(server.name, "beyond import", ready - alone)
                session.say(f"round {number + 1}: {server.name} {ready:.2f} s")
    beyond = outcome.median(servers.CLUSTERD.name, "beyond import")
    outcome.figure("start of 4 workers beyond the import", beyond, 0.45, "s")
    return outcome


def _import_alone(python: str) -> float:
    asked = subprocess.run(
        [python, "-c", TIME_IMPORT],
        cwd=servers.APPS,
        env={**os.environ, "PYTHONPATH": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    return float(asked.stdout)
