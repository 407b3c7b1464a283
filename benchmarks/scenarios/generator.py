"""What one generator process of `clusterd bench` can send, and whether wrk and h2load see the same.

Against raw uvloop, which answers canned bytes: requests a second in the closed loop, and at a
constant rate how late they are sent (schedule error); CPU time of the generator for a request,
against wrk's. The server has one core and the generator another, where there are two. Against one
worker of clusterd, which is slower than all three generators: the throughput and the median
latency that each of them reports, judged by how far the turns of either lie apart. 64 connections;
the three take turns.
"""

import os
import re
import resource
import shutil
import statistics
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks import bench, load, proc, servers
from benchmarks.outcome import Outcome
from benchmarks.servers import Running
from benchmarks.session import Session

UNITS = {
    "closed loop": "/s",
    "open loop": "/s",
    "lag p99": "ms",
    "CPU": "µs each",
    "rate": "/s",
    "p50": "ms",
}
OURS, WRK, H2LOAD = "clusterd bench", "wrk", "h2load"
CONNECTIONS = 64
RATE = 50_500  # asked for, so that 50,000 are there when the last are still under way
SECONDS, TINY = 2.5, 0.5
WRK_RATE, WRK_COUNT = r"Requests/sec:\s+([\d.]+)", r"(\d+) requests in"
WRK_MEDIAN = r"50%\s+([\d.]+)(us|ms|s)\b"
H2LOAD_RATE = r", ([\d.]+) req/s"
SCALE = {"us": 1e-3, "ms": 1.0, "s": 1e3}


def run(session: Session) -> Outcome:
    """Take turns, round by round."""
    outcome = Outcome(UNITS)
    for program in (WRK, H2LOAD):
        if shutil.which(program) is None:
            outcome.notes.append(f"{program} is not installed: nothing is compared with it")
    for number in range(session.times(3)):
        _alone(session, outcome)
        with session.start(servers.RAW) as running:
            running.wait_answering()
            apart = _pin(running.root)
            if shutil.which(WRK):
                _wrk_alone(session, outcome, running, apart)
        with session.start(servers.CLUSTERD_ROOMY, workers=1) as running:
            running.wait_answering()
            _pin(running.root)
            _together(session, outcome, running)
        rate = outcome.median(OURS, "closed loop") or 0
        session.say(f"round {number + 1}: {OURS} {rate:,.0f}/s so far")
    _judge(outcome, apart)
    return outcome


def _judge(outcome: Outcome, apart: set[int]) -> None:
    median = outcome.median
    closed, opened = median(OURS, "closed loop"), median(OURS, "open loop")
    outcome.figure("one generator, closed loop", closed, 60_000, "/s", at_least=True)
    outcome.figure("one generator, open loop", opened, 50_000, "/s", at_least=True)
    what = f"one generator at {RATE:,}/s: sent after due, p99"
    outcome.figure(what, median(OURS, "lag p99"), 0.2, "ms")
    outcome.figure("CPU time a request, of wrk's", outcome.ratio("CPU", OURS, WRK), 2.0)
    for peer in (WRK, H2LOAD):
        for measure, what in (("rate", "throughput"), ("p50", "median latency")):
            ratio = outcome.ratio(measure, OURS, peer)
            off = None if ratio is None else abs(ratio - 1) * 100
            noise = max(_noise(outcome.of(who, measure)) for who in (OURS, peer))
            what = f"{what} of the same server, off what {peer} says; turns differ by"
            outcome.figure(what, off, round(noise, 1), "%")
    if not apart:
        outcome.notes.append("on one core: generator and server could not be pinned apart")


def _pin(pid: int) -> set[int]:
    """The server onto the first core that we have; the cores that are left."""
    first, *others = sorted(os.sched_getaffinity(0))
    for server in proc.tree(pid) if others else ():
        os.sched_setaffinity(server, {first})
    return set(others)


def _noise(samples: Sequence[float]) -> float:
    """How far one of them lies from their median, at most, in percent."""
    middle = statistics.median(samples) if samples else 0.0
    return max((abs(one - middle) / middle * 100 for one in samples if middle), default=0.0)


def _alone(session: Session, outcome: Outcome) -> None:
    """How much one generator manages, and what that costs it.

    Beside an application of ours, since then it starts both and knows to place them apart.
    """
    closed = _against_raw(session)
    outcome.add(OURS, "closed loop", closed.throughput)
    if closed.generator is not None:
        outcome.add(OURS, "CPU", closed.generator)
    rate = 1000 if session.smoke else RATE
    opened = _against_raw(session, "--rate", str(rate))
    outcome.add(OURS, "open loop", opened.throughput)
    if opened.lag is not None:
        outcome.add(OURS, "lag p99", opened.lag)
    for doubt in dict.fromkeys([*closed.doubts, *opened.doubts]):
        session.say(f"  {OURS}: {doubt}")


def _against_raw(session: Session, *options: str) -> bench.Turn:
    against = f"{servers.RAW.name}={servers.RAW.command}"
    words = ["--workers", "1", "--against", against, *options]
    return _run(session, "plain:app", *words).turns[-1]


def _wrk_alone(session: Session, outcome: Outcome, running: Running, apart: set[int]) -> None:
    """The same of wrk."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    said = _wrk(session, running, apart)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    outcome.add(WRK, "closed loop", _number(WRK_RATE, said))
    outcome.add(WRK, "CPU", spent / _number(WRK_COUNT, said) * 1e6)


def _together(session: Session, outcome: Outcome, running: Running) -> None:
    """What the three say about the same server."""
    seen = _run(session, _url(running)).turns[-1]
    outcome.add(OURS, "rate", seen.throughput)
    outcome.add(OURS, "p50", seen.p50)
    if shutil.which(WRK):
        said = _wrk(session, running, set())
        outcome.add(WRK, "rate", _number(WRK_RATE, said))
        outcome.add(WRK, "p50", _time(WRK_MEDIAN, said))
    if shutil.which(H2LOAD):
        said, took = _h2load(session, running)
        outcome.add(H2LOAD, "rate", _number(H2LOAD_RATE, said))
        outcome.add(H2LOAD, "p50", statistics.median(took))


def _run(session: Session, target: str, *options: str) -> bench.Ran:
    """A run of `clusterd bench` with one generator and one round."""
    seconds = TINY if session.smoke else SECONDS
    words = ["-c", str(CONNECTIONS), "--generators", "1", "--rounds", "1", *options]
    words += ["--duration", f"{seconds}s"]
    with tempfile.TemporaryDirectory(prefix="bench-generator-") as name:
        python, limit = session.environment.python, bench.limit(2, 1, seconds)
        return bench.run(python, target, words, Path(name), limit)


def _wrk(session: Session, running: Running, cpus: set[int]) -> str:
    """What it prints; on these cores, all if there are none."""
    seconds = 1 if session.smoke else round(SECONDS)
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "--latency", _url(running)]
    everywhere = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cpus or everywhere)  # a child begins where we are
    try:
        return _said(command)
    finally:
        os.sched_setaffinity(0, everywhere)


def _h2load(session: Session, running: Running) -> tuple[str, list[float]]:
    """What it prints, and how long each request took, in ms."""
    seconds = 1 if session.smoke else round(SECONDS)
    command = ["h2load", "--h1", "-t1", f"-c{CONNECTIONS}", f"-D{seconds}"]
    with tempfile.TemporaryDirectory(prefix="bench-h2load-") as name:
        log = Path(name, "log")
        said = _said([*command, f"--log-file={log}", _url(running)])
        rows = [line.split("\t") for line in log.read_text().splitlines()]
    return said, [int(row[2]) / 1e3 for row in rows if row[1] == "200"]


def _url(running: Running) -> str:
    return f"http://{load.HOST}:{running.port}/"


def _said(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    return done.stdout


def _found(pattern: str, said: str) -> re.Match[str]:
    found = re.search(pattern, said)
    if found is None:
        raise ValueError(f"no {pattern} in {said!r}")
    return found


def _number(pattern: str, said: str) -> float:
    return float(_found(pattern, said)[1])


def _time(pattern: str, said: str) -> float:
    """In ms."""
    found = _found(pattern, said)
    return float(found[1]) * SCALE[found[2]]
