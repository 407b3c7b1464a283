"""What the machine itself loses when several processes compute at once: a bare spin.

No server, no network: processes that count. One alone, then all, in turns. A cluster cannot scale
better than this, so its efficiency is told over it.
"""

import contextlib
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence

from clusterd.bench import spinner
from clusterd.bench.results import Spin
from clusterd.bench.spinner import Sample

TURNS = 3  # of one alone and of all, each
SECONDS = 0.2  # a turn


def measure(
    processes: int,
    cpus: Sequence[int] = (),
    *,
    turns: int = TURNS,
    seconds: float = SECONDS,
) -> Spin:
    """One alone against `processes` at once, on `cpus` (all that there are, if empty)."""
    alone: list[Sample] = []
    together: list[list[Sample]] = []
    with _spinners(processes, cpus) as spinners:
        for _ in range(turns):
            alone += _spin(spinners[:1], seconds)
            together.append(_spin(spinners, seconds))
    return judged(processes, alone, together)


def judged(processes: int, alone: Sequence[Sample], together: Sequence[Sequence[Sample]]) -> Spin:
    """What samples come to; the middle ones, since a neighbour may disturb a turn."""
    spin = Spin(processes, [cpu for _, cpu in alone], [cpu for turn in together for _, cpu in turn])
    wall = statistics.median(wall for wall, _ in alone)
    spin.per_second = statistics.median(sum(wall for wall, _ in turn) for turn in together) / (
        wall * processes
    )
    spin.per_cpu = statistics.median(spin.each) / statistics.median(spin.one)
    return spin


def merged(spins: Sequence[Spin]) -> Spin | None:
    """Those of all rounds as one; None where there was none."""
    if not spins:
        return None
    return Spin(
        spins[0].processes,
        [one for spin in spins for one in spin.one],
        [one for spin in spins for one in spin.each],
        statistics.median(spin.per_second for spin in spins),
        statistics.median(spin.per_cpu for spin in spins),
    )


Spinner = subprocess.Popen[str]


@contextlib.contextmanager
def _spinners(processes: int, cpus: Sequence[int]) -> Iterator[list[Spinner]]:
    """The processes, waiting; their stdin's end is theirs, so none is left behind."""
    command = [sys.executable, "-m", spinner.__name__, *map(str, cpus)]
    with contextlib.ExitStack() as stack:
        started = [
            stack.enter_context(
                subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                    bufsize=1,
                    start_new_session=True,
                )
            )
            for _ in range(processes)
        ]
        for one in started:
            stack.callback(one.kill)
        for one in started:
            _said(one)  # it is there
        yield started


def _said(spinner: Spinner) -> list[float]:
    assert spinner.stdout is not None
    return [float(word) for word in spinner.stdout.readline().split()]


def _spin(spinners: Sequence[Spinner], seconds: float) -> list[Sample]:
    for one in spinners:
        assert one.stdin is not None
        one.stdin.write(f"{seconds}\n")
    return [(wall, cpu) for wall, cpu in map(_said, spinners)]
