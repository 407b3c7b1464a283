"""One run of `clusterd bench`: what it is asked, and what its report says, turn by turn.

The driver imports nothing of clusterd: the report is read by the interpreter that made it, with
the code that made it, which also shows that it can be read again.
"""

import json
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.servers import APPS, REPOSITORY

PATIENCE = 90.0  # seconds beyond what the turns take
STARTING = 15.0  # seconds that a turn may take besides its load
READ = """
import json, sys
from pathlib import Path
from clusterd.bench import figures, store, usl

report = store.load(Path(sys.argv[1]))
workers = {side.name: side.workers for side in report.sides}
ours = {side.name for side in report.sides if "," not in side.name}
turns = [
    {
        "side": turn.side,
        "workers": workers[turn.side],
        "throughput": turn.throughput,
        "cpu": turn.cpu_per_request,
        "p50": turn.latency.percentile(50) / 1e3,
        "p99": turn.latency.percentile(99) / 1e3,
        "requests": turn.requests,
        "failed": turn.failed,
        "memory": turn.server.pss / 2**20 if turn.server else None,
        "shared": turn.generator.shared,
        "doubts": turn.doubts,
        "generator": turn.generator.cpu / turn.requests * 1e6 if turn.requests else None,
        "lag": turn.lag.percentile(99) / 1e3 if turn.lag is not None else None,
    }
    for turn in report.turns
]
gained = {
    str(row.side.workers): {"by_throughput": row.speedup.fair, "by_cpu": row.speedup.fair_cpu}
    for row in figures.figures(report)
    if row.speedup is not None and row.side.name in ours
}
points = [
    (workers[turn.side], turn.throughput) for turn in report.turns if turn.side in ours
]
model = usl.fit(points) if len({count for count, _ in points}) >= 3 else None
print(json.dumps({
    "turns": turns,
    "ours": sorted(ours),
    "efficiency": gained,
    "per_cpu": report.spin.per_cpu if report.spin else None,
    "per_second": report.spin.per_second if report.spin else None,
    "model": model and {
        "rate": model.rate,
        "contention": model.contention,
        "crosstalk": model.crosstalk,
        "error": model.error,
    },
}))
"""


@dataclass(frozen=True, slots=True)
class Turn:
    """A side under the load, once. Times are ms, CPU times µs a request, memory MiB."""

    side: str
    workers: int
    throughput: float
    cpu: float | None
    p50: float
    p99: float
    requests: int
    failed: int
    memory: float | None
    shared: bool  # the generator and the server could run on the same cores
    doubts: list[str]
    generator: float | None  # its CPU time a request
    lag: float | None  # p99 of sent after it was due (open loop)


@dataclass(frozen=True, slots=True)
class Efficiency:
    """What a core of a cluster does, of what it does alone, over what a bare spin loses."""

    by_throughput: float | None
    by_cpu: float | None  # by CPU time a request


@dataclass(frozen=True, slots=True)
class Model:
    """The Universal Scalability Law, fitted: rate * n / (1 + contention (n-1) + crosstalk n (n-1))
    requests a second of n workers; `error` is relative, of the points, and None where there are no
    more of them than terms."""

    rate: float
    contention: float
    crosstalk: float
    error: float | None


@dataclass(frozen=True, slots=True)
class Ran:
    """What a report says. Of the spin: what all cores at once manage, of one alone."""

    turns: list[Turn]
    ours: list[str]  # names of clusterd's sides
    efficiency: dict[int, Efficiency]  # by workers
    per_cpu: float | None
    per_second: float | None
    model: Model | None  # None: too few worker counts
    pictures: dict[str, str] = field(default_factory=dict)  # name -> SVG

    def sides(self) -> list[str]:
        """In the order of their first turns."""
        return list(dict.fromkeys(turn.side for turn in self.turns))

    def of(self, side: str) -> list[Turn]:
        """The turns of a side, in the order of rounds."""
        return [turn for turn in self.turns if turn.side == side]

    def failed(self) -> int:
        """Requests that failed with clusterd."""
        return sum(turn.failed for turn in self.turns if turn.side in self.ours)

    def doubts(self) -> list[str]:
        """Those that the report has, each once."""
        return list(dict.fromkeys(doubt for turn in self.turns for doubt in turn.doubts))


def run(
    python: str,
    target: str,
    options: Sequence[str],
    folder: Path,
    limit: float,
    env: Mapping[str, str] | None = None,
    pictures: bool = False,
) -> Ran:
    """Run it, and read what it left in the folder. Raises OSError when it fails, ValueError when
    its report is not whole."""
    stem, drawn = folder / "report", folder / "pictures"
    command = [python, "-m", "clusterd.cli.main", "bench", *options, "--report", str(stem)]
    command += [*(["--pictures", str(drawn)] if pictures else []), target]
    environ = {
        **{name: value for name, value in os.environ.items() if name != "WEB_CONCURRENCY"},
        "PYTHONPATH": str(REPOSITORY),
        **(env or {}),
    }
    _finish(command, environ, folder / "log", limit)
    page = stem.with_suffix(".html").read_text()
    if "<svg" not in page or "</html>" not in page:
        raise ValueError(f"the report of {target} is no page with pictures")
    ran = read(python, stem.with_suffix(".json"))
    ran.pictures.update({path.stem: path.read_text() for path in sorted(drawn.glob("*.svg"))})
    return ran


def _finish(command: list[str], environ: dict[str, str], log: Path, limit: float) -> None:
    """Run to the end; whatever happens, it is told to stop and clean up first."""
    with log.open("wb") as out:
        process = subprocess.Popen(
            command,
            cwd=APPS,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,  # Ctrl-C is for us; we stop it in order
        )
    try:
        status = process.wait(limit)
    except BaseException:
        process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.wait(30)
        process.kill()
        process.wait()
        raise
    if status:
        said = log.read_text(errors="replace")[-2000:]
        raise ChildProcessError(f"{' '.join(command)} ended with {status}: {said}")


def read(python: str, path: Path) -> Ran:
    """What a stored report says; raises OSError for what is none."""
    done = subprocess.run(
        [python, "-c", READ, str(path)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    if done.returncode:
        raise ChildProcessError(f"{path} cannot be read: {done.stderr[-1000:]}")
    found: dict[str, Any] = json.loads(done.stdout)
    return Ran(
        [Turn(**turn) for turn in found["turns"]],
        found["ours"],
        {int(workers): Efficiency(**one) for workers, one in found["efficiency"].items()},
        found["per_cpu"],
        found["per_second"],
        Model(**found["model"]) if found["model"] else None,
    )


def limit(sides: int, rounds: int, seconds: float) -> float:
    """Seconds after which a run of so many turns hangs."""
    return PATIENCE + sides * rounds * (seconds * 2 + STARTING)
