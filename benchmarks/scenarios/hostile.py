"""The p99 of a well-behaved client, and one worker's memory, while 1,000 others are hostile.

Four clients ask "hello" over kept connections, 50 times a second each; a latency counts from when
its request was due. First alone, then while a process of hostile clients (`benchmarks/attack.py`)
holds all that it can: of each kind of `tests/support/hostile.py` and of all in turn ("any"). Judged
are the p99 under attack by that alone, and what the worker has grown by at most, by its memory
budget of 96 MiB; the figure is the worst kind's. Each kind meets a fresh worker.

The attackers send 32 MiB and connect 200 times a second at most, and give way to the others (nice):
on two cores an attack without bounds would measure who gets the CPU. Requests of innocent clients
at the same rate of bytes ("innocent") show what such a load costs by itself. Clients of HTTP/2 need
h2, so this runs with --as-installed on an interpreter that has it, and measures nothing otherwise.
"""

import contextlib
import json
import statistics
import subprocess
import time
from collections.abc import Iterator

from benchmarks import load, proc, servers
from benchmarks.outcome import Outcome
from benchmarks.scenarios.hang import control
from benchmarks.servers import REPOSITORY, Running
from benchmarks.session import Session

COUNT = 1000
RATE = 32 * 2**20  # bytes a second of all hostile clients together
SLOW = {"TAKES_EVERY": "3"}  # seconds: what comes meanwhile is as much as the budget
BUDGET = 96 * 1024  # KiB, as `servers.CLUSTERD_ATTACKED` has it
CLIENTS, EACH = 4, 50  # well-behaved clients, and what each asks a second
SECONDS = 10.0  # that they ask alone, and under attack
LIMIT = 60.0  # seconds until a wait is a failure
HELLO = load.request("/")
INNOCENT = "innocent"
KINDS = (
    "half a head",
    "many headers",
    "half a body",
    "chunks",
    "a slow reader",
    "pipelined",
    "half a message",
    "fragments",
    "messages",
    "bombs",
    "streams",
    "bodies",
    "half a block",
    "any",
)
ALONE, UNDER, RATIO, FAILED, GROWN = (
    "p99 alone",
    "p99 under attack",
    "under attack by alone",
    "not answered 200",
    "grown by budget",
)
MEASURES = {ALONE: "ms", UNDER: "ms", RATIO: "", FAILED: "%", GROWN: ""}


def run(session: Session) -> Outcome:
    """Attack a worker with each kind, round by round."""
    outcome = Outcome(MEASURES)
    if "h2" not in session.environment.versions:
        outcome.notes.append("h2 is not installed: nothing was measured (see --as-installed)")
        return outcome
    kinds = ("half a body", INNOCENT) if session.smoke else (*KINDS, INNOCENT)
    with proc.descriptors(2 * COUNT):
        for number in range(session.times(3)):
            for kind in kinds:
                session.say(f"round {number + 1}: {kind}")
                _measure(session, outcome, kind)
    hostile = [kind for kind in kinds if kind != INNOCENT]
    for measure, target in ((RATIO, 3.0), (GROWN, 1.1)):
        medians = {kind: outcome.median(kind, measure) or 0.0 for kind in hostile}
        worst = max(medians, key=lambda kind: medians[kind])
        what = f"{measure}, worst of {len(hostile)} kinds of {COUNT:,} hostile clients ({worst})"
        outcome.figure(what, medians[worst], target)
    what = f"{RATIO}, innocent clients at the same rate of bytes"
    outcome.figure(what, outcome.median(INNOCENT, RATIO))
    return outcome


def _measure(session: Session, outcome: Outcome, kind: str) -> None:
    count, seconds = (50, 0.5) if session.smoke else (COUNT, SECONDS)
    folder = {"folder": str(REPOSITORY / "tests" / "apps")}
    server = servers.CLUSTERD_ATTACKED
    with session.start(server, "hostile", workers=1, env=SLOW, more=folder) as running:
        running.wait_answering()
        pid = _worker(running)
        ask(running.port, seconds / 5)  # what the first ones cost is no growth
        alone, _ = ask(running.port, seconds)
        base = proc.resident_kib(pid)
        proc.forget_peak(pid)
        with attacking(session, running, kind, count):
            under, failed = ask(running.port, seconds)
        grown = (proc.resident_kib(pid, peak=True) - base) / BUDGET
        if _worker(running) != pid:
            raise ValueError(f"the worker was replaced under attack ({kind})")
    outcome.add(kind, ALONE, alone * 1e3)
    outcome.add(kind, UNDER, under * 1e3)
    outcome.add(kind, RATIO, under / alone)
    outcome.add(kind, FAILED, failed * 100)
    outcome.add(kind, GROWN, grown)
    session.say(
        f"  p99 {alone * 1e3:.2f} ms alone, {under * 1e3:.2f} under attack "
        f"({under / alone:.1f}), {failed:.1%} failed; {grown:.2f} of the budget"
    )


def _worker(running: Running) -> int:
    """Return the pid of the only worker."""
    with control(running) as sock, sock.makefile("rw") as lines:
        lines.write('{"command": "status"}\n')
        lines.flush()
        (worker,) = json.loads(lines.readline())["workers"]
        return int(worker["pid"])


@contextlib.contextmanager
def attacking(session: Session, running: Running, kind: str, count: int) -> Iterator[None]:
    """Attack from a process of its own, which has sent what it can when this begins."""
    words = ("-m", "benchmarks.attack", str(running.port), kind, str(count), str(RATE))
    process = subprocess.Popen(
        [session.environment.python, *words],
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdin is not None
        assert process.stdout is not None
        if process.stdout.readline() != "full\n":
            raise ChildProcessError(f"the attackers left: {process.wait()}")
        try:
            yield
            if process.poll() is not None:
                raise ChildProcessError(f"the attackers left: {process.returncode}")
        finally:
            process.stdin.close()


def ask(port: int, seconds: float) -> tuple[float, float]:
    """Let the well-behaved clients ask for a while.

    Return the 99th percentile of latencies in seconds, counted from when a request was due, and the
    share of requests that were not answered with 200. What a connection costs counts where one had
    to be replaced, and not at the beginning.
    """
    took: list[float] = []
    failed = 0
    with load.Crowd(port) as crowd:
        idle = {tag: _connect(crowd, tag) for tag in range(CLIENTS)}
        begun = time.perf_counter()
        due = {
            tag: [begun + (number + tag / CLIENTS) / EACH for number in range(int(seconds * EACH))]
            for tag in range(CLIENTS)
        }
        while any(due.values()):
            now = time.perf_counter()
            if now > begun + seconds + LIMIT:
                raise TimeoutError("the well-behaved clients are not served")
            for tag in list(idle):
                if due[tag] and due[tag][0] <= now:
                    crowd.ask(idle.pop(tag), HELLO)
            soonest = min([at[0] for tag, at in due.items() if at and tag in idle], default=now + 1)
            for report in crowd.turn(soonest - time.perf_counter()):
                conn, answer = report.conn, report.answer
                if conn.tag not in idle:  # else it was closed between two requests
                    took.append(report.at - due[conn.tag].pop(0))
                    failed += answer is None or answer.status != 200
                if answer is None or not answer.stays:
                    crowd.close(conn)
                    conn = crowd.connect(conn.tag)
                idle[conn.tag] = conn
    return statistics.quantiles(took, n=100)[98], failed / len(took)


def _connect(crowd: load.Crowd, tag: int) -> load.Connection:
    """Return a connection that has had its first answer."""
    crowd.ask(crowd.connect(tag), HELLO)
    while True:
        for report in crowd.turn(LIMIT):
            if report.answer is None:
                raise ConnectionError(f"a well-behaved client was hung up on: {report.error}")
            return report.conn
