"""Proportional memory (PSS) of the whole tree, 4 workers, an app of 80 MB; again after a reload.

PSS counts a page shared by n processes as 1/n in each, so the sum over the tree is what the
machine really spends. Read from /proc/PID/smaps_rollup after 4,000 requests, and once more after
a SIGHUP, when only new workers are left, and 4,000 requests.
"""

import os
import signal

from benchmarks import clients, load, probe, proc, servers
from benchmarks.outcome import Outcome
from benchmarks.scenarios.reload import wait_gone
from benchmarks.servers import Running
from benchmarks.session import Session

WORKERS = 4
REQUESTS = 4_000


def run(session: Session) -> Outcome:
    """Weigh every server, round by round."""
    outcome = Outcome({"PSS": "MB", "PSS after reload": "MB", "processes": ""})
    wanted = session.among(
        servers.CLUSTERD,
        servers.UVICORN,
        servers.GUNICORN,
        servers.GUNICORN_PRELOAD,
        servers.GRANIAN,
        servers.NODE,
    )
    for _ in range(session.times(3)):
        for server in wanted:
            with session.forgiving(server, outcome), session.start(server, "heavy") as running:
                old = set(probe.meet(running.port, WORKERS))
                _weigh(running, outcome, "PSS", session)
                outcome.add(server.name, "processes", len(proc.tree(running.root)))
                if server.reloads:
                    os.kill(running.root, signal.SIGHUP)
                    probe.meet(running.port, WORKERS, known=old)
                    wait_gone(old)
                    _weigh(running, outcome, "PSS after reload", session)
    uvicorn = outcome.median("uvicorn", "PSS")
    if uvicorn:
        for measure, target in (("PSS", 0.40), ("PSS after reload", 0.60)):
            ours = outcome.median(servers.CLUSTERD.name, measure)
            if ours:
                outcome.figure(f"{measure}, of uvicorn's", ours / uvicorn, target)
    return outcome


def _weigh(running: Running, outcome: Outcome, measure: str, session: Session) -> None:
    clients.saturate(running.port, load.request("/"), 32, REQUESTS)
    total = sum(proc.pss_kib(pid) for pid in proc.tree(running.root)) * 1024 / 1e6
    outcome.add(running.server.name, measure, total)
    session.say(f"{running.server.name} {measure} {total:.0f} MB")
