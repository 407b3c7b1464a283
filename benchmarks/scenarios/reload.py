"""Requests that fail over 20 reloads (SIGHUP) under 8 keep-alive clients, 4 workers.

Four clients stay on one connection for as long as the server lets them, four open a new one after
every fourth answer; in each four, two ask again at once and two after a pause of 0 to 10 ms. A
request fails when it is refused, reset, hung up on, or not answered 200; it counts as reused when
its connection had answered before. A hang-up between two requests is no failure (the client sees
it and connects anew), but it is counted. The next reload comes when every old worker is gone.
"""

import os
import random
import signal
import time
from collections.abc import Callable, Collection

from benchmarks import load, probe, proc, servers
from benchmarks.outcome import Outcome
from benchmarks.servers import Running
from benchmarks.session import Session

WORKERS = 4
CLIENTS = 8
LIMIT = 45.0
MEASURES = {
    "failed fresh": "",
    "failed reused": "",
    "hung up between": "",
    "requests": "",
    "slowest": "ms",
    "reload": "s",
}


class Clients:
    """The eight clients and what happened to them."""

    def __init__(self, crowd: load.Crowd, seed: int) -> None:
        self._crowd = crowd
        self._random = random.Random(seed)
        self._due: dict[load.Connection, float] = {}  # when to ask again
        self._away: dict[int, float] = {}  # refused clients: when to try again
        self.fresh = self.reused = self.between = self.requests = 0
        self.slowest = 0.0
        self.errors: dict[str, int] = {}
        for client in range(CLIENTS):
            self._connect(client)

    def _connect(self, client: int) -> None:
        conn = self._crowd.connect(client)
        self._crowd.ask(conn, probe.ASK)

    def run(self, until: Callable[[], bool], limit: float) -> None:
        """Let the clients go on until the condition holds; it is looked at every 5 ms."""
        deadline = time.perf_counter() + limit
        look = 0.0
        while True:
            now = time.perf_counter()
            if now >= look:
                if until():
                    return
                if now > deadline:
                    raise TimeoutError("the reload did not end")
                look = now + 0.005
            for conn in [conn for conn, due in self._due.items() if due <= now]:
                del self._due[conn]
                self._crowd.ask(conn, probe.ASK)
            for client in [client for client, due in self._away.items() if due <= now]:
                del self._away[client]
                self._connect(client)
            soonest = min([look, *self._due.values(), *self._away.values()])
            for report in self._crowd.turn(soonest - time.perf_counter()):
                self._take(report)

    def _take(self, report: load.Report) -> None:
        conn, answer = report.conn, report.answer
        if answer is None:
            self._due.pop(conn, None)
            if conn.waiting:
                self._fail(conn, report.error)
            else:
                self.between += 1
            if conn.answers:
                self._connect(conn.tag)
            else:  # refused: it must not storm
                self._away[conn.tag] = report.at + 0.010
            return
        self.requests += 1
        self.slowest = max(self.slowest, report.at - conn.asked_at)
        if answer.status != 200:
            self._fail(conn, str(answer.status))
        if not answer.stays or (conn.tag >= CLIENTS // 2 and conn.answers >= 4):
            self._crowd.close(conn)
            self._connect(conn.tag)
        elif conn.tag % 2:
            self._due[conn] = time.perf_counter() + self._random.uniform(0, 0.010)
        else:
            self._crowd.ask(conn, probe.ASK)

    def _fail(self, conn: load.Connection, error: str) -> None:
        kind = "reused" if conn.answers else "fresh"
        if conn.answers:
            self.reused += 1
        else:
            self.fresh += 1
        self.errors[f"{kind} {error}"] = self.errors.get(f"{kind} {error}", 0) + 1


def run(session: Session) -> Outcome:
    """Reload every server again and again under the same clients."""
    outcome = Outcome(MEASURES)
    wanted = session.among(
        servers.CLUSTERD,
        servers.UVICORN,
        servers.GUNICORN,
        servers.GUNICORN_PRELOAD,
        servers.GRANIAN,
    )
    reloads = session.times(20, tiny=2)
    for server in wanted:
        with session.forgiving(server, outcome), session.start(server) as running:
            _reload_all(session, running, outcome, reloads)
    ours = servers.CLUSTERD.name
    for kind in ("fresh", "reused"):
        failed = outcome.of(ours, f"failed {kind}")
        if failed:
            what = f"failed requests over {reloads} reloads, {kind} connections"
            outcome.figure(what, sum(failed), 0, exact=True)
    return outcome


def _reload_all(session: Session, running: Running, outcome: Outcome, reloads: int) -> None:
    name = running.server.name
    pids = set(probe.meet(running.port, WORKERS))
    with load.Crowd(running.port) as crowd:
        clients = Clients(crowd, seed=1)
        try:
            for number in range(reloads):
                begun = time.perf_counter()
                os.kill(running.root, signal.SIGHUP)
                clients.run(lambda old=pids: _gone(running, old), LIMIT)  # type: ignore[misc]
                took = time.perf_counter() - begun
                pids = set(probe.meet(running.port, WORKERS, known=pids))
                outcome.add(name, "reload", took)
                session.say(
                    f"reload {number + 1}: {name} {took:.2f} s, so far {clients.requests} requests,"
                    f" failed {clients.fresh} fresh {clients.reused} reused {clients.errors or ''}"
                )
        finally:
            outcome.add(name, "failed fresh", clients.fresh)
            outcome.add(name, "failed reused", clients.reused)
            outcome.add(name, "hung up between", clients.between)
            outcome.add(name, "requests", clients.requests)
            outcome.add(name, "slowest", clients.slowest * 1e3)


def _gone(running: Running, old: Collection[int]) -> bool:
    if not proc.alive(running.root):
        raise ConnectionError("the server died of the reload")
    return not any(proc.alive(pid) for pid in old)


def wait_gone(old: Collection[int], limit: float = LIMIT) -> None:
    """Wait until none of the processes is left."""
    deadline = time.perf_counter() + limit
    while any(proc.alive(pid) for pid in old):
        if time.perf_counter() > deadline:
            raise TimeoutError("old workers stay")
        time.sleep(0.02)
