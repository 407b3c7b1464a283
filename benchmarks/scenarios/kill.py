"""From `kill -9` of a worker to its replacement answering, the app's import costing 1 s.

4 workers; the victims have been up for 10 s at least. After the kill a fresh connection every
millisecond asks who answers; the time ends with the first answer from a pid not known before.
The survivors are given 6 held connections each first, so that a server that balances sends the
probes to the newcomer; for the others chance decides, which costs them a few ms at most.
"""

import os
import signal
import time

from benchmarks import load, probe, servers
from benchmarks.outcome import Outcome
from benchmarks.servers import Running
from benchmarks.session import Session

WORKERS = 4
UP = 10.0


def run(session: Session) -> Outcome:
    """Kill every server's workers in turns of four, all of them old enough."""
    outcome = Outcome({"replaced": "ms"})
    wanted = session.among(
        servers.CLUSTERD,
        servers.UVICORN,
        servers.GUNICORN,
        servers.GUNICORN_PRELOAD,
        servers.GRANIAN,
        servers.NODE,
    )
    kills = session.times(20, tiny=2)
    for server in wanted:
        with session.forgiving(server, outcome), session.start(server, "heavy") as running:
            _kill_all(session, running, outcome, kills)
    ours = outcome.median(servers.CLUSTERD.name, "replaced")
    outcome.figure(f"kill -9 to the replacement answering, median of {kills}", ours, 50, "ms")
    return outcome


def _kill_all(session: Session, running: Running, outcome: Outcome, kills: int) -> None:
    done = 0
    while done < kills:
        living = set(probe.meet(running.port, WORKERS))
        time.sleep(0.5 if session.smoke else UP)
        for victim in sorted(living)[: kills - done]:
            fresh, took = replacement(running.port, victim, living)
            living.remove(victim)
            living.add(fresh)
            done += 1
            outcome.add(running.server.name, "replaced", took * 1e3)
            session.say(f"kill {done}: {running.server.name} {took * 1e3:.1f} ms")


def replacement(port: int, victim: int, living: set[int]) -> tuple[int, float]:
    """Kill one worker; the pid that took its place, and the seconds until it answered."""
    with load.Crowd(port) as crowd:
        for _ in range(6 * WORKERS):
            crowd.ask(crowd.connect(), probe.ASK)
            waiting = True
            while waiting:
                for report in crowd.turn(1.0):
                    waiting = False
                    if report.answer and int(report.answer.body) not in living:
                        raise ValueError("a worker was replaced that nobody killed")
        killed = time.perf_counter()
        os.kill(victim, signal.SIGKILL)
        met = probe.meet(port, 1, known=living, every=0.001)
    [(pid, at)] = met.items()
    return pid, at - killed
