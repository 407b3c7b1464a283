"""Memory (USS) of the master with 64 workers, and its CPU time a worker a minute.

USS are the pages that nobody else has, from /proc/PID/smaps_rollup, once all workers are there.
CPU is taken over a minute in which nothing happens, and over a spell of requests by 64 keep-alive
clients, in which the master has no part either; both are divided by the number of workers.
"""

import time
from pathlib import Path

from benchmarks import clients, load, proc, servers
from benchmarks.outcome import Outcome
from benchmarks.scenarios import status
from benchmarks.session import Session

WORKERS = 64
SECONDS = 60.0
SETTLE = 3.0
SPELLS, REQUESTS = 4, 15_000  # a connection is closed after 1,000
CLIENTS = 64


def run(session: Session) -> Outcome:
    """Weigh and watch the master."""
    outcome = Outcome({"USS": "MB", "CPU idle": "ms", "CPU busy": "ms"})
    workers = 4 if session.smoke else WORKERS
    ours = servers.CLUSTERD.name
    for _ in range(session.times(1)):
        with session.start(servers.CLUSTERD_ROOMY, workers=workers) as running:
            running.wait_answering()
            status.wait_for(running, session.environment.python, workers)
            time.sleep(SETTLE)
            outcome.add(ours, "USS", uss(running.root) / 1e6)
            seconds = 3.0 if session.smoke else SECONDS
            session.say(f"watching the idle master of {workers} workers for {seconds:.0f} s")
            before = proc.cpu_seconds(running.root)
            time.sleep(seconds)
            used = proc.cpu_seconds(running.root) - before
            outcome.add(ours, "CPU idle", used * 1e3 * 60.0 / seconds / workers)
            before, begun = proc.cpu_seconds(running.root), time.perf_counter()
            for _ in range(1 if session.smoke else SPELLS):
                clients.saturate(running.port, load.request("/"), CLIENTS, REQUESTS)
            used, took = proc.cpu_seconds(running.root) - before, time.perf_counter() - begun
            outcome.add(ours, "CPU busy", used * 1e3 * 60.0 / took / workers)
    outcome.figure(f"USS of the master, {workers} workers", outcome.median(ours, "USS"), 25.0, "MB")
    for how in ("idle", "busy"):
        what = f"CPU of the {how} master, a worker a minute"
        outcome.figure(what, outcome.median(ours, f"CPU {how}"), 1.0, "ms")
    return outcome


def uss(pid: int) -> int:
    """Bytes that would be free if the process went."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return 1024 * sum(int(line.split()[1]) for line in lines if line.startswith("Private_"))
