"""The CPU time that requests cost a worker, for servers that take turns.

One worker a server, all up at once. What is measured is the worker's user and system time (its
process CPU clock, all threads) while it answers, divided by the answers; connecting is left out.
What the machine's speed does meanwhile hits all servers alike, since ratios are taken within a
turn; every few turns all servers are started afresh, since memory lies differently each time.
"""

import statistics
import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from benchmarks import proc
from benchmarks.clients import Ask, Clients
from benchmarks.outcome import Outcome
from benchmarks.servers import Running, Server
from benchmarks.session import Session

MOST = 900  # requests a connection makes; servers may close it after a thousand


@dataclass(frozen=True, slots=True)
class Measure:
    """One kind of load: so many clients, who ask so many times between them."""

    ask: Ask
    clients: int = 1
    requests: int = 3600
    most: int = MOST


@dataclass(frozen=True, slots=True)
class Contest:
    """Servers, each with the module of its app, and what they are measured by; samples in µs."""

    session: Session
    outcome: Outcome
    wanted: Sequence[tuple[Server, str]]
    measures: Mapping[str, Measure]
    more: Mapping[str, str] = field(default_factory=dict)  # further words of their commands

    def hold(self, rounds: int, turns: int) -> None:
        """Take all the turns: in each round servers are started afresh.

        A peer that breaks is left out altogether: what it has would be paired with other turns.
        """
        left = list(self.wanted)
        for number in range(self.session.times(rounds)):
            broken = self._round(left, 1 if self.session.smoke else turns)
            left = [(server, app) for server, app in left if server.name not in broken]
            for name in broken:
                self.outcome.samples.pop(name, None)
            for server, _ in left:
                samples = self.outcome.samples.get(server.name, {})
                said = [f"{name} {statistics.median(own):.1f} µs" for name, own in samples.items()]
                self.session.say(f"round {number + 1}: {server.name} so far {', '.join(said)}")

    def _round(self, wanted: Sequence[tuple[Server, str]], turns: int) -> set[str]:
        broken = {server.name for server, _ in wanted}
        with ExitStack() as stack:
            started: deque[tuple[Running, int]] = deque()
            for server, app in wanted:
                with self.session.forgiving(server, self.outcome):
                    running = self.session.start(server, app, workers=1, more=self.more)
                    stack.enter_context(running)
                    pid = running.only_worker()
                    for measure in self.measures.values():
                        cost(running, pid, measure, max(measure.clients, measure.requests // 10))
                    started.append((running, pid))
                    broken.discard(server.name)
            for _ in range(turns):
                for name, measure in self.measures.items():
                    self._turn(started, name, measure, broken)
                started.rotate(1)
        return broken

    def _turn(
        self, started: Sequence[tuple[Running, int]], name: str, measure: Measure, broken: set[str]
    ) -> None:
        requests = measure.requests
        if self.session.smoke:
            requests = max(measure.clients, requests // 20)
        for running, pid in started:
            server = running.server
            if server.name not in broken:
                broken.add(server.name)
                with self.session.forgiving(server, self.outcome):
                    spent, rate = cost(running, pid, measure, requests)
                    self.outcome.add(server.name, name, spent)
                    if f"{name} rate" in self.outcome.units:
                        self.outcome.add(server.name, f"{name} rate", rate)
                    broken.discard(server.name)


def cost(running: Running, pid: int, measure: Measure, requests: int) -> tuple[float, float]:
    """The process's CPU time for one request, in µs, and how many there were in a second."""
    answered, spent, took = 0, 0.0, 0.0
    while answered < requests:
        with Clients(running.port, measure.ask, measure.clients) as clients:
            before, begun = proc.cpu_seconds(pid), time.perf_counter()
            answered += clients.saturate(min(requests - answered, measure.most * measure.clients))
            took += time.perf_counter() - begun
            spent += proc.cpu_seconds(pid) - before
    return spent / answered * 1e6, answered / took
