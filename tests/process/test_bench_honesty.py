"""What the benchmark says is what was: held against servers whose own counts are the truth.

No figure here depends on how fast the machine is. Counts are exact; a latency cannot be shorter
than the server took for it; and in a closed loop all latencies together cannot be longer than the
time that there was. What the machine's other work does to a figure is left out of all three.
"""

import os
import random
import re
import select
import shutil
import signal
import subprocess
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from clusterd.bench import orders
from clusterd.bench.crew import Crew
from clusterd.bench.figures import lost, percentile
from clusterd.bench.histogram import Histogram
from clusterd.bench.interval import INTERVAL, Interval
from clusterd.bench.load import Load, Request, Target
from clusterd.bench.results import Side
from clusterd.bench.turn import take
from tests.support.scripted import (
    BODILESS,
    CHUNKED,
    CLOSE,
    GARBAGE,
    HALF,
    LIMIT,
    OK,
    RESET,
    SILENT,
    TO_THE_END,
    Scripted,
    Told,
)

MS = 1000  # µs
PERCENTS = (50.0, 75.0, 90.0, 95.0, 99.0)


@dataclass
class Seen:
    """What the generators said of a run, added up."""

    requests: int = 0
    bytes: int = 0
    behind: int = 0  # at the end
    errors: Counter[str] = field(default_factory=Counter)
    latency: Counter[int] = field(default_factory=Counter)
    lag: Counter[int] = field(default_factory=Counter)
    by_time: list[int] = field(default_factory=list)  # requests, by interval
    ends: list[orders.Done] = field(default_factory=list)

    def add(self, one: Interval) -> None:
        self.requests += one.requests
        self.bytes += one.bytes
        self.errors.update(one.errors)
        self.latency.update(one.latency)
        self.lag.update(one.lag)
        self.by_time += [0] * (one.number + 1 - len(self.by_time))
        self.by_time[one.number] += one.requests

    @property
    def unanswered(self) -> int:
        """Under way when time was over."""
        return sum(end.unanswered for end in self.ends)

    def longer_than(self, micros: int) -> int:
        """How many latencies."""
        return sum(count for value, count in self.latency.items() if value > micros)

    def values(self) -> list[int]:
        """All latencies in order."""
        return sorted(self.latency.elements())


def driven(server: Scripted, load: Load, processes: int = 1, enough: int = 0) -> Seen:
    """A run by real generators, from its first request to its end, or to so many answers."""
    seen = Seen()
    with Crew(target(server), load, processes) as crew:
        crew.connect()
        crew.go()
        gather(crew, seen, enough)
    return seen


def target(server: Scripted) -> Target:
    return Target("http", "127.0.0.1", server.port)


def gather(crew: Crew, seen: Seen, enough: int = 0) -> None:
    """All that they say from now on."""
    while not crew.done:
        for _, one in crew.intervals(10.0):
            seen.add(one)
        if enough and seen.requests >= enough:
            crew.finish()
    assert crew.failures == []
    seen.ends = crew.ends


@contextmanager
def run(load: Load, processes: int = 1, **script: Any) -> Iterator[tuple[Seen, Told]]:
    """A run against a server with this script, and what both say of it."""
    with Scripted(**script) as server:
        acts = script.get("acts", (OK,))
        answers = sum(act not in (HALF, RESET, GARBAGE, CLOSE) for act in acts)
        seen = driven(server, load, processes, script.get("budget", 0) * answers // len(acts))
        yield seen, server.told()


def below(lower: Iterable[int], upper: Iterable[int]) -> bool:
    """Whether each of `lower`, in order of size, is no more than the one in its place, which is
    cut to three digits."""
    return all(one <= other * 1.001 + 1 for one, other in zip(lower, upper, strict=True))


LOADS = {
    "closed": Load(connections=8),
    "one connection": Load(connections=1),
    "two processes": Load(connections=9),
    "fresh": Load(connections=8, fresh=True),
    "pipelined": Load(connections=4, pipeline=5),
    "open": Load(connections=16, rate=3000),
    "open, two processes": Load(connections=16, rate=3000),
    "open and fresh": Load(connections=16, rate=1500, fresh=True),
}


@pytest.mark.parametrize("name", LOADS)
def test_counts_are_the_servers_own(name: str) -> None:
    """Requests and bytes, exactly. After its 600th answer the server is silent, so that none is on
    its way when time is over."""
    load = replace(LOADS[name], duration=5.0)
    with run(load, 2 if "two" in name else 1, budget=600, body=40) as (seen, told):
        assert seen.requests == told.answered == 600, (seen, told.acts)
        assert seen.bytes == told.sent
        assert seen.unanswered == told.received - told.answered
        assert seen.errors == {}
        assert sum(end.sent for end in seen.ends) == told.received
        assert told.deepest == load.pipeline
        if load.fresh:
            assert told.connections - told.received in (0, 1)  # one to see whether anybody is there
        else:
            assert told.connections == load.connections
        assert below(told.taken, seen.values())


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_answers_of_any_form_are_counted(method: str) -> None:
    acts = (OK,) if method == "HEAD" else (OK, CHUNKED, OK, TO_THE_END, BODILESS)
    load = Load((Request(method=method),), connections=4, duration=5.0)
    with run(load, budget=200, acts=acts, body=40, head=True) as (seen, told):
        assert (seen.requests, seen.bytes, seen.errors) == (200, told.sent, {})
        assert told.answered == 200


def test_errors_are_counted_by_kind_and_answers_whatever_their_status() -> None:
    acts = (OK, "503", OK, HALF, RESET, "404", GARBAGE, OK, CLOSE, OK)
    load = Load(connections=4, duration=5.0)
    with run(load, acts=acts, budget=100) as (seen, told):
        assert told.acts == Counter(acts * 10) + Counter({SILENT: 4}), seen
        assert seen.errors == {
            "status 503": 10,
            "status 404": 10,
            "closed": 20,
            "reset": 10,
            "protocol": 10,
        }
        assert seen.requests == sum(seen.latency.values()) == told.answered == 60
        assert all(end.texts["protocol"] for end in seen.ends)


def test_a_request_that_is_never_answered_is_a_timeout_and_has_no_latency() -> None:
    load = Load(connections=4, duration=1.2, timeout=0.2)
    with run(load, acts=(OK, OK, OK, SILENT)) as (seen, told):
        assert seen.requests == told.answered
        # Those that the server has yet to read when time is over are on their way, too.
        assert seen.errors == {"timeout": told.received - told.answered - seen.unanswered}
        assert seen.errors["timeout"] >= 4
        assert max(seen.latency) < 200 * MS


PATHS = (
    Request("/often", weight=7),
    Request("/", "POST", body=b"x" * 100, weight=2),
    Request("/seldom?a=b", "HEAD", weight=1),
)


@pytest.mark.parametrize("processes", [1, 2])
def test_each_kind_of_request_has_its_share_exactly(processes: int) -> None:
    load = Load(PATHS, connections=10, duration=5.0)
    with run(load, processes, budget=600, head=True) as (_, told):
        wanted = {"GET /often": 0.7, "POST /": 0.2, "HEAD /seldom?a=b": 0.1}
        assert told.asked.keys() == wanted.keys()
        for kind, share in wanted.items():  # each process deals a deck of ten by itself
            assert abs(told.asked[kind] - share * told.received) <= 10 * processes
        assert told.bodies == 100 * told.asked["POST /"]


@pytest.mark.parametrize(("rate", "processes"), [(50.0, 1), (999.5, 2)])
def test_a_rate_is_held(rate: float, processes: int) -> None:
    """To the request: also while the server stalls, what is due then is sent and counted."""
    load = Load(connections=64, rate=rate, duration=1.2)
    with run(load, processes, stalls=((int(rate / 2), 0.3),)) as (seen, told):
        assert abs(told.received - 1.2 * rate) <= processes
        assert sum(end.sent for end in seen.ends) == told.received
        assert seen.requests + seen.unanswered == told.received
        assert sum(seen.lag.values()) == told.received
        assert seen.errors == {}


STALLED = 1.0  # seconds
RATE = 200


def percentiles(seen: Seen) -> list[int]:
    histogram = Histogram.of(seen.latency)
    return [histogram.percentile(one) for one in PERCENTS]


def test_a_stall_of_a_second_shows_in_the_open_loop() -> None:
    """Whoever was due while nothing moved has waited for it, each as long as was left of it.

    It happens in the first half of a turn, where a warm-up is looked for, and is in its figures.
    """
    load = Load(connections=16, rate=RATE, duration=2.6)
    with Scripted(stalls=((RATE * 3 // 4, STALLED),)) as server:
        turn = take(Side("it"), 1, load, target(server))
        told = server.told()
    assert turn.latency.percentile(99) >= 900 * MS
    waits = turn.latency.counts()
    for waited in (0.1, 0.5, 0.9):
        due = (STALLED - waited) * RATE
        found = sum(count for value, count in waits.items() if value > waited * 1e6)
        assert found >= due - 1, waited
    assert turn.warmup <= 3  # intervals: it came after three
    every = sum(moment.requests for moment in turn.moments)
    assert every + turn.unanswered == told.received
    assert turn.requests == turn.latency.count
    assert turn.requests == sum(moment.requests for moment in turn.moments[turn.warmup :])
    seconds = 2.6 - turn.warmup * INTERVAL  # what was answered after the end is in none of them
    assert turn.throughput == pytest.approx(turn.requests / seconds, rel=0.02)
    # None of it is blamed on the generator, which was free to send if a connection was.
    assert turn.lag is not None
    assert turn.lag.percentile(50) < 500 * MS
    assert any("waited for one of 16 connections" in doubt for doubt in turn.doubts)


def test_a_stall_that_lasts_beyond_the_end_hides_nothing() -> None:
    """What was due and had no answer counts as slower than any other, so there is no p99."""
    load = Load(connections=16, rate=RATE, duration=1.2)
    with Scripted(stalls=((RATE, 1.5),)) as server:
        turn = take(Side("it"), 1, load, target(server))
    assert lost(turn) >= 0.2 * RATE - 1
    assert percentile(99, turn.latency, lost(turn)).value is None
    assert percentile(50, turn.latency, lost(turn)).value is not None


def test_a_stall_of_a_second_hides_in_the_closed_loop() -> None:
    """The contrast: one request of each connection has waited, and nobody else was asked."""
    load = Load(connections=16, duration=2.0)
    with run(load, stalls=((RATE, STALLED),)) as (seen, _):
        assert 1 <= seen.longer_than(900 * MS) <= 16
        assert seen.requests > 1700  # or 16 would be a percent
        assert percentiles(seen)[-1] < 500 * MS


LEVELS = (0.01, 0.04, 0.16)  # seconds
SHARES = (80, 15, 5)


def test_percentiles_of_scripted_latencies_are_right() -> None:
    """Never below what the server took, on its own clock, and above that by no more than what the
    machine adds."""
    delays = [level for level, share in zip(LEVELS, SHARES, strict=True) for _ in range(share)]
    random.Random(1).shuffle(delays)
    load = Load(connections=32, duration=5.0)
    with run(load, delays=tuple(delays), budget=600) as (seen, told):
        values = seen.values()
        assert below(told.taken, values)
        assert Counter(told.acts) == {OK: 600, SILENT: 32}
        histogram, theirs = Histogram.of(seen.latency), Histogram.of(Counter(told.taken))
        for percent, level in ((50, 0), (79, 0), (85, 1), (94, 1), (96, 2), (99, 2)):
            found = histogram.percentile(percent)
            assert found >= LEVELS[level] * 1e6, percent
            assert found <= 1.5 * theirs.percentile(percent) + 20 * MS, percent


def test_latencies_of_a_closed_loop_fill_the_time_that_there_was() -> None:
    """Little's law: each connection waits for one answer after the other, so all latencies together
    are its time, less what it takes to ask again and the last one, that is not answered."""
    load = Load(connections=8, duration=1.5)
    with run(load, delays=(0.002, 0.01)) as (seen, _):
        (end,) = seen.ends
        total = sum(value * count for value, count in seen.latency.items()) / 1e6
        assert 0.8 * 8 * end.over <= total <= 8 * end.over


def test_a_generator_that_is_held_up_says_so() -> None:
    """Stopped for a while, it sends what was due afterwards: late, and by its own fault."""
    rate, held = 200, 0.5
    with Scripted() as server, Crew(target(server), Load(rate=rate, duration=2.0)) as crew:
        seen, (pid,) = Seen(), crew.pids
        crew.connect()
        crew.go()
        server.until(lambda told: told.received > 10)
        os.kill(pid, signal.SIGSTOP)
        os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOWAIT)
        select.select([], [], [], held)
        os.kill(pid, signal.SIGCONT)
        gather(crew, seen)
        late = sum(count for value, count in seen.lag.items() if value > held / 2 * 1e6)
        assert late >= rate * held / 2 - 1
        assert seen.longer_than(int(held / 2 * 1e6)) >= late - 1  # counted from when it was due
        assert abs(server.told().received - 2 * rate) <= 1  # all of it was sent nevertheless


H2LOAD = re.compile(r"requests: (\d+) total, \1 started, \1 done, \1 succeeded, 0 failed")
WRK = re.compile(r"(\d+) requests in ")


@pytest.mark.skipif(shutil.which("h2load") is None, reason="h2load is not installed")
def test_h2load_counts_the_same() -> None:
    """Both against the same server, which is so shown to count rightly itself."""
    with Scripted(body=40) as server:
        said = heard("h2load", "--h1", "-n", "600", "-c", "8", server.url)
        told = server.told()
        assert H2LOAD.search(said), said
        assert f"({told.sent}) total" in said
        assert (told.answered, told.connections) == (600, 8)


@pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")
def test_wrk_counts_the_same() -> None:
    """It stops by time, with at most one request a connection under way."""
    with Scripted() as server:
        said = heard("wrk", "-t", "1", "-c", "8", "-d", "1", server.url)
        told = server.told()
        found = WRK.search(said)
        assert found is not None
        assert 0 <= told.answered - int(found[1]) <= 8


def heard(*command: str) -> str:
    """What another load generator says."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=True)
    return done.stdout
