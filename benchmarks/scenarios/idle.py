"""CPU time of the idle tree over 60 s, and how often its processes woke.

All servers are started, asked a few thousand times, left alone for 3 s, and then watched together
for a minute: an idle server does not disturb another. Wake-ups are voluntary context switches of
all threads. The master is the process that was started; the workers are those that answer.
"""

import time
from contextlib import ExitStack

from benchmarks import clients, load, probe, proc, servers
from benchmarks.outcome import Outcome
from benchmarks.servers import Running
from benchmarks.session import Session

WORKERS = 4
SECONDS = 60.0
SETTLE = 3.0
MEASURES = {
    "worker CPU": "ms",
    "master CPU": "ms",
    "master wake-ups": "",
    "tree CPU": "ms",
    "tree wake-ups": "",
}


class Watched:
    """One server's processes and what they had used when the watch began."""

    def __init__(self, running: Running, workers: set[int]) -> None:
        self.running = running
        self.workers = workers
        self.pids = proc.tree(running.root)
        self.cpu = {pid: proc.cpu_seconds(pid) for pid in self.pids}
        self.woken = {pid: proc.wakeups(pid) for pid in self.pids}

    def write_down(self, outcome: Outcome) -> None:
        """Add what they have used since; the busiest worker stands for the workers."""
        cpu = {pid: (proc.cpu_seconds(pid) - self.cpu[pid]) * 1e3 for pid in self.pids}
        woken = {pid: proc.wakeups(pid) - self.woken[pid] for pid in self.pids}
        name, root = self.running.server.name, self.running.root
        outcome.add(name, "worker CPU", max(cpu[pid] for pid in self.workers))
        outcome.add(name, "master CPU", cpu[root])
        outcome.add(name, "master wake-ups", woken[root])
        outcome.add(name, "tree CPU", sum(cpu.values()))
        outcome.add(name, "tree wake-ups", sum(woken.values()))


def run(session: Session) -> Outcome:
    """Watch all servers do nothing."""
    outcome = Outcome(MEASURES)
    wanted = session.among(
        servers.CLUSTERD,
        servers.UVICORN,
        servers.GUNICORN,
        servers.GRANIAN,
        servers.NODE,
    )
    seconds = 3.0 if session.smoke else SECONDS
    for _ in range(session.times(1)):
        with ExitStack() as stack:
            started: list[tuple[Running, set[int]]] = []
            for server in wanted:
                running = stack.enter_context(session.start(server))
                started.append((running, set(probe.meet(running.port, WORKERS))))
                clients.saturate(running.port, load.request("/"), 16, 2_000)
            time.sleep(SETTLE)
            watched = [Watched(running, workers) for running, workers in started]
            session.say(f"watching {len(watched)} idle servers for {seconds:.0f} s")
            time.sleep(seconds)
            for each in watched:
                each.write_down(outcome)
    ours = servers.CLUSTERD.name
    allowed = 10.0 * seconds / SECONDS
    busiest = outcome.median(ours, "worker CPU")
    outcome.figure(f"CPU of an idle worker over {seconds:.0f} s", busiest, allowed, "ms")
    outcome.figure(
        "wake-ups of the idle master", outcome.median(ours, "master wake-ups"), 0, exact=True
    )
    return outcome
