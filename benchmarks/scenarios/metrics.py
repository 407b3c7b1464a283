"""CPU time of metrics scraped every 100 ms under load, in percent of the whole tree's.

Spells of load by 16 clients, with scrapes and without in turns, on the same 4 workers. What a
scrape costs is what the master and the admin endpoint use more with it than without: nobody else
has a part in it. It is held against all that the tree uses in the spell with scrapes.
"""

import http.client
import json
import threading
import time

from benchmarks import clients, load, proc, servers
from benchmarks.outcome import Outcome
from benchmarks.servers import Running
from benchmarks.session import Session

EVERY = 0.1  # seconds
SPELL = 4.0  # seconds
CLIENTS, REQUESTS = 16, 4_000  # a connection is closed after 1,000
MEASURES = {"cost": "%", "of a scrape": "ms", "scrape": "ms", "page": "kB"}


class Scraper(threading.Thread):
    """Asks for the metrics, as often as it may, until it is stopped."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self.line = http.client.HTTPConnection(load.HOST, port, timeout=30)
        self.enough = threading.Event()
        self.took: list[float] = []
        self.size = 0
        self.failure: Exception | None = None

    def run(self) -> None:
        try:
            while not self.enough.wait(EVERY):
                begun = time.perf_counter()
                self.size = len(get(self.line, "/metrics"))
                self.took.append(time.perf_counter() - begun)
        except (OSError, ValueError, http.client.HTTPException) as error:
            self.failure = error

    def stop(self) -> None:
        """Raises what went wrong."""
        self.enough.set()
        self.join()
        self.line.close()
        if self.failure is not None:
            raise self.failure


def get(line: http.client.HTTPConnection, page: str) -> bytes:
    """A page of the admin endpoint."""
    line.request("GET", page)
    response = line.getresponse()
    body = response.read()
    if response.status != 200:
        raise ValueError(f"{page} is {response.status}: {body[:200]!r}")
    return body


def run(session: Session) -> Outcome:
    """Measure spells with scrapes and without, in turns."""
    outcome = Outcome(MEASURES)
    ours = servers.CLUSTERD_ADMIN.name
    for number in range(session.times(3)):
        admin = servers.free_port()
        with session.start(servers.CLUSTERD_ADMIN, more={"admin": str(admin)}) as running:
            running.wait_answering()
            own = {running.root, endpoint(admin)}
            for _ in range(1 if session.smoke else 3):
                _turn(session, outcome, running, admin, own)
        session.say(f"round {number + 1}: {outcome.median(ours, 'cost'):.2f} %")
    outcome.figure("metrics scraped every 100 ms", outcome.median(ours, "cost"), 2.0, "%")
    outcome.figure("CPU time of a scrape", outcome.median(ours, "of a scrape"), None, "ms")
    return outcome


def endpoint(port: int) -> int:
    """The pid of the admin endpoint, which it tells itself."""
    line = http.client.HTTPConnection(load.HOST, port, timeout=30)
    status = json.loads(get(line, "/status.json"))
    line.close()
    return next(int(one["pid"]) for one in status["workers"] if one["group"] == "admin")


def _turn(session: Session, outcome: Outcome, running: Running, admin: int, own: set[int]) -> None:
    without, _, seconds = _spell(session, running, own)
    scraper = Scraper(admin)
    scraper.start()
    used, whole, took = _spell(session, running, own)
    scraper.stop()
    ours, more = servers.CLUSTERD_ADMIN.name, used - without / seconds * took
    outcome.add(ours, "cost", 100 * more / whole)
    outcome.add(ours, "of a scrape", 1e3 * more / len(scraper.took))
    outcome.add(ours, "scrape", *(1e3 * one for one in scraper.took))
    outcome.add(ours, "page", scraper.size / 1e3)


def _spell(session: Session, running: Running, own: set[int]) -> tuple[float, float, float]:
    """Seconds of CPU time that some processes used under load, that all used, and its length."""
    tree = proc.tree(running.root)
    before, begun = {pid: proc.cpu_seconds(pid) for pid in tree}, time.perf_counter()
    while time.perf_counter() - begun < (0.5 if session.smoke else SPELL):
        clients.saturate(running.port, load.request("/"), CLIENTS, REQUESTS)
    used = {pid: proc.cpu_seconds(pid) - before[pid] for pid in tree}
    took = time.perf_counter() - begun
    return sum(used[pid] for pid in own), sum(used.values()), took
