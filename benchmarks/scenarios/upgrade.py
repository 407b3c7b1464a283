"""The time in which the control socket does not answer while the master is upgraded in place.

A process of its own asks for the status without a pause and notes when it was answered; the figure
is the longest time between two answers around each upgrade, with 4 workers and with 64.
"""

import itertools
import json
import subprocess
import sys
from pathlib import Path

from benchmarks import servers
from benchmarks.outcome import Outcome
from benchmarks.scenarios.status import command, wait_for
from benchmarks.servers import Running
from benchmarks.session import Session

SIZES = (4, 64)
UPGRADES = 10
# Asks until its standard input is closed; then prints when it was answered (monotonic seconds).
ASK = """
import json, select, socket, sys, time
times = []
while not select.select([sys.stdin], [], [], 0)[0]:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(sys.argv[1])
        sock.sendall(b'{"command": "status"}\\n')
        answer = b""
        while not answer.endswith(b"\\n"):
            answer += sock.recv(1 << 16)
    times.append(time.monotonic())
print(json.dumps(times))
"""


def run(session: Session) -> Outcome:
    """Upgrade clusters of both sizes to what they are already."""
    outcome = Outcome({})
    for workers in SIZES[:1] if session.smoke else SIZES:
        silence, whole = f"silence, {workers} workers", f"whole, {workers} workers"
        outcome.units |= {silence: "ms", whole: "ms"}
        with session.start(servers.CLUSTERD, workers=workers) as running:
            running.wait_answering()
            wait_for(running, session.environment.python, workers)
            for _ in range(session.times(UPGRADES)):
                seconds, longest = _upgrade(running, session.environment.python)
                outcome.add(servers.CLUSTERD.name, whole, seconds * 1e3)
                outcome.add(servers.CLUSTERD.name, silence, longest * 1e3)
        samples = outcome.of(servers.CLUSTERD.name, silence)
        session.say(f"{workers} workers: silent for {', '.join(f'{ms:.0f}' for ms in samples)} ms")
        what = f"longest silence of the control socket, {workers} workers"
        outcome.figure(what, max(samples), 300.0, "ms")
    return outcome


def _upgrade(running: Running, python: str) -> tuple[float, float]:
    """One upgrade: how long it took, trial and all, and the longest wait between two answers."""
    (path,) = Path(running.folder.name).glob("*/*.sock")
    asking = subprocess.Popen(
        [sys.executable, "-c", ASK, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    command(running, python, "upgrade")
    times = json.loads(asking.communicate()[0])
    events = command(running, python, "events", "--json").splitlines()
    told = [json.loads(event) for event in events if '"kind": "upgraded"' in event]
    return told[-1]["seconds"], max(b - a for a, b in itertools.pairwise(times))
