"""One worker against the cluster, for every workload, by `clusterd bench` itself.

Each row of `workloads.TABLE` is a run: 1 worker and more take turns under the same load, over ASGI
and over WSGI. hello has uvicorn, gunicorn and granian beside it, in the same run. The efficiency
of a core is what it does in the cluster, of what it does alone, over what a bare spin of as many
processes loses in the same run: by CPU time a request where the generator needs the same cores,
by throughput where it hardly needs any (`cpu5`). With three worker counts or more, the Universal
Scalability Law is fitted to throughput by workers; two cores are too few for it.
"""

import itertools
import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from benchmarks import bench, chart, servers, workloads
from benchmarks.bench import Model, Ran
from benchmarks.outcome import Outcome
from benchmarks.session import Session
from benchmarks.workloads import ASGI, CPU, TABLE, WSGI, Workload

UNITS = {
    "requests": "/s",
    "CPU": "µs each",
    "p50": "ms",
    "p99": "ms",
    "memory": "MiB",
}
PEERS = (servers.UVICORN, servers.GUNICORN, servers.GRANIAN)
ROOMY = {"CLUSTERD_MAX_CONNECTIONS": "20000"}
SECONDS, TINY = 2.5, 0.5  # a turn
ROUNDS = 3  # of what is judged or shown; the others have one
SHOWN = ("mixed-rate, ASGI", "latency")  # the run and the picture of its report that README shows
NUMBER = re.compile(r"\d[\d.,]*")
FEW = "a fit of the Universal Scalability Law needs 3 worker counts, on as many cores"


@dataclass(frozen=True, slots=True)
class Plan:
    """One run: a workload, over one interface, with whom beside it."""

    row: Workload
    target: str
    counts: tuple[int, ...]
    rounds: int
    seconds: float
    peers: tuple[servers.Server, ...] = ()

    @property
    def name(self) -> str:
        """As samples are named."""
        return f"{self.row.name}, {'WSGI' if self.target == WSGI else 'ASGI'}"

    def options(self, folder: Path) -> list[str]:
        """Of `clusterd bench`."""
        words = ["--workers", ",".join(map(str, self.counts)), "--rounds", str(self.rounds)]
        words += ["--duration", f"{self.seconds}s"]
        words += workloads.options(self.row, folder, self.counts[-1])
        for peer in self.peers:
            # There an application is named whole, as module:app.
            words += ["--against", f"{peer.name}={peer.command.replace('{app}:app', '{app}')}"]
        return words

    def limit(self) -> float:
        """Seconds that it takes at most."""
        sides = len(self.counts) * (1 + len(self.peers))
        return bench.limit(sides, self.rounds, self.seconds)


def plans(session: Session, counts: tuple[int, ...]) -> Iterator[Plan]:
    """All runs; in a smoke run WSGI takes part once."""
    seconds = TINY if session.smoke else SECONDS
    for row in TABLE:
        shown = SHOWN[0] == f"{row.name}, ASGI"
        rounds = session.times(ROUNDS if row.judged or shown else 1)
        peers = tuple(session.among(*PEERS)) if row.name == "hello" else ()
        yield Plan(row, ASGI, counts, rounds, seconds, peers)
    for row in TABLE:
        if row.wsgi and (row.name == "hello" or not session.smoke):
            yield Plan(row, WSGI, counts, session.times(1), seconds)


def run(session: Session) -> Outcome:
    """Run every workload, one after the other; tiny ones two at a time."""
    outcome = Outcome(UNITS)
    counts = workloads.worker_counts(len(os.sched_getaffinity(0)))
    wanted = list(plans(session, counts))
    python = session.environment.python
    # One worker takes what is meant for all of them, and is not to refuse what is beyond a limit.
    env = {"WORK_SPINS": str(workloads.spins(python, servers.APPS)), **ROOMY}

    def one(plan: Plan) -> Ran:
        with tempfile.TemporaryDirectory(prefix="bench-cluster-") as name:
            folder = Path(name)
            options = plan.options(folder)
            shown = plan.name == SHOWN[0]
            return bench.run(python, plan.target, options, folder, plan.limit(), env, shown)

    with ThreadPoolExecutor(2 if session.smoke else 1) as pool:
        pairs = zip(wanted, pool.map(one, wanted), strict=True)
        results = [(plan, _noted(session, outcome, plan, ran)) for plan, ran in pairs]
    _judge(outcome, results, counts)
    if not session.smoke:
        _pictures(outcome, results)
    return outcome


def _noted(session: Session, outcome: Outcome, plan: Plan, ran: Ran) -> Ran:
    """The samples of a run, as soon as it has ended."""
    for turn in ran.turns:
        key = f"{plan.name}, {turn.side}"
        outcome.add(key, "requests", turn.throughput)
        outcome.add(key, "p50", turn.p50)
        outcome.add(key, "p99", turn.p99)
        if turn.cpu is not None:
            outcome.add(key, "CPU", turn.cpu)
        if turn.memory is not None:
            outcome.add(key, "memory", turn.memory)
    rates = (
        f"{side} {outcome.median(f'{plan.name}, {side}', 'requests'):,.0f}/s"
        for side in ran.sides()
    )
    session.say(f"{plan.name}: {'; '.join(rates)}")
    return ran


def _judge(outcome: Outcome, results: Sequence[tuple[Plan, Ran]], counts: tuple[int, ...]) -> None:
    """Efficiencies against their targets; what nobody promised is shown as well."""
    for plan, ran in results:
        row, most = plan.row, counts[-1]
        efficiency = ran.efficiency.get(most)
        if efficiency is not None and row.judged and plan.target == ASGI:
            value = efficiency.by_cpu if row.judged == CPU else efficiency.by_throughput
            what = f"{row.name}, {most} workers against 1: efficiency a core by {row.judged}"
            outcome.figure(f"{what}, over a bare spin's", value, row.target, at_least=True)
        if efficiency is not None and not row.judged and "--rate" not in row.options:
            what = f"{plan.name}, {most} workers against 1: efficiency a core by CPU time a request"
            outcome.figure(f"{what}, over a bare spin's", efficiency.by_cpu)
        if ran.model is not None:
            outcome.notes.append(f"{plan.name}: {_law(ran.model, counts)}")
    failed = sum(ran.failed() for _, ran in results)
    outcome.figure("failed requests of all workloads", failed, 0, exact=True)
    if len(counts) < 3:
        outcome.notes.append(f"workers: {_listed(counts)}; {FEW}")
    spins = [ran.per_cpu for _, ran in results if ran.per_cpu is not None]
    if spins:
        outcome.notes.append(
            f"bare spin of {counts[-1]} processes: each CPU second does {min(spins):.3f} to "
            f"{max(spins):.3f} of what it does alone"
        )
    outcome.notes += _doubts(results)


def _law(model: Model, counts: Sequence[int]) -> str:
    error = "as many terms as points, so its error is not known"
    if model.error is not None:
        error = f"off the points by {model.error:.1%}"
    return (
        f"Universal Scalability Law over {_listed(counts)} workers: {model.rate:,.0f}/s of one, "
        f"contention {model.contention:.3g}, crosstalk {model.crosstalk:.2g}; {error}"
    )


def _doubts(results: Sequence[tuple[Plan, Ran]]) -> list[str]:
    """Those that the reports have, each once, with whose they are; other numbers are no others."""
    found: dict[str, dict[str, list[str]]] = {}
    for plan, ran in results:
        for doubt in ran.doubts():
            found.setdefault(NUMBER.sub("", doubt), {}).setdefault(plan.name, []).append(doubt)
    notes = []
    for names in found.values():
        texts = list(dict.fromkeys(itertools.chain.from_iterable(names.values())))
        whose = "all runs" if len(names) == len(results) else "; ".join(names)
        alike = f" (the first of {len(texts)} alike)" if len(texts) > 1 else ""
        notes.append(f"{whose}: {texts[0]}{alike}")
    return notes


def _listed(counts: Sequence[int]) -> str:
    return ", ".join(map(str, counts))


def _pictures(outcome: Outcome, results: Sequence[tuple[Plan, Ran]]) -> None:
    """The two that README shows: who gains how much, and what becomes of latency."""
    gained = {}
    for plan, ran in results:
        row, most = plan.row, plan.counts[-1]
        if plan.target != ASGI:
            continue
        if plan.name == SHOWN[0] and SHOWN[1] in ran.pictures:
            outcome.files[f"{SHOWN[1]}.svg"] = ran.pictures[SHOWN[1]]
        sides = f"{plan.name}, {most} workers", f"{plan.name}, 1 worker"
        ratio = outcome.ratio("requests", *sides)
        if ratio is not None and "--rate" not in row.options:
            gained[row.name] = ratio
    outcome.files["speedup.svg"] = chart.speedups(gained, results[0][0].counts[-1])
