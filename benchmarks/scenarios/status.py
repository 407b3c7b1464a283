"""Time of `clusterd status` on 64 workers, beyond that of `clusterd --version`.

Both are run in turn as a shell would run them, from start to exit, their output thrown away. The
difference is taken within a turn; the medians count.
"""

import os
import subprocess
import time

from benchmarks import servers
from benchmarks.outcome import Outcome
from benchmarks.servers import Running
from benchmarks.session import Session

WORKERS = 64
TURNS = 40
VERSION, STATUS = "--version", "status"


def run(session: Session) -> Outcome:
    """Time both commands beside a cluster of many workers."""
    outcome = Outcome({VERSION: "ms", STATUS: "ms", "beyond": "ms"})
    workers = 4 if session.smoke else WORKERS
    ours = servers.CLUSTERD.name
    with session.start(servers.CLUSTERD, workers=workers) as running:
        running.wait_answering()
        wait_for(running, session.environment.python, workers)
        session.say(f"{workers} workers are there")
        for _ in range(session.times(TURNS, tiny=5)):
            version = _time(running, session.environment.python, VERSION)
            status = _time(running, session.environment.python, STATUS)
            outcome.add(ours, VERSION, version)
            outcome.add(ours, STATUS, status)
            outcome.add(ours, "beyond", status - version)
    outcome.figure("clusterd --version", outcome.median(ours, VERSION), 150.0, "ms")
    what = f"clusterd status on {workers} workers, beyond clusterd --version"
    outcome.figure(what, outcome.median(ours, "beyond"), 50.0, "ms")
    return outcome


def command(running: Running, python: str, *words: str) -> str:
    """What a command prints, asked as the server's user would."""
    return subprocess.run(
        [python, "-m", "clusterd.cli.main", *words],
        cwd=servers.APPS,
        env={
            **{key: text for key, text in os.environ.items() if not key.startswith("CLUSTERD_")},
            "CLUSTERD_RUNTIME_DIR": f"{running.folder.name}/clusterd",
            "RUNTIME_DIRECTORY": "",
            "PYTHONPATH": str(servers.REPOSITORY),
            "PYTHONDONTWRITEBYTECODE": "",
        },
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout


def wait_for(running: Running, python: str, workers: int) -> None:
    """Until all are ready: before that, a status would say less."""
    limit = time.perf_counter() + servers.START_LIMIT
    while f"{workers} of {workers} ready" not in command(running, python, STATUS):
        if time.perf_counter() > limit:
            raise TimeoutError(f"{workers} workers do not become ready")
        time.sleep(0.1)


def _time(running: Running, python: str, word: str) -> float:
    begun = time.perf_counter()
    command(running, python, word)
    return (time.perf_counter() - begun) * 1e3
