"""Reports that nobody measured: made up, the same at every call, and consistent in themselves.

What a turn says as a whole is what its measured moments add up to, as in a real one.
"""

import math
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist

from clusterd.bench.histogram import Histogram
from clusterd.bench.interval import INTERVAL
from clusterd.bench.load import Load, Request
from clusterd.bench.results import (
    Event,
    GeneratorUse,
    Moment,
    Report,
    Search,
    ServerUse,
    Side,
    Spin,
    Turn,
)

WARMUP = 2  # intervals that every turn's warm-up takes
STEPS = 60  # of a distribution's body; its tail is finer
_NORMAL = NormalDist()


@dataclass(frozen=True, slots=True)
class Shape:
    """How a side behaves: what a turn of it is made of."""

    name: str
    workers: int = 1  # 0: a URL that somebody else serves
    throughput: float = 11_000.0  # requests a second, as many as it can
    median: float = 4_000.0  # latency in µs, log-normal
    spread: float = 0.35  # sigma of the logarithm
    cpu: float = 88.0  # µs of the server's CPU time a request
    pss: int = 42_000_000  # bytes, a worker
    command: str = "clusterd run module:app"


ONE = Shape("1 worker")
ALL = Shape("4 workers", 4, 39_600.0, 1_150.0, 0.55, 91.0, 24_000_000)
OTHERS = (
    Shape("gunicorn", 4, 14_500.0, 3_300.0, 0.7, 240.0, 31_000_000, "gunicorn -w 4 app:app"),
    Shape("uvicorn", 4, 31_000.0, 1_600.0, 0.6, 116.0, 38_000_000, "uvicorn --workers 4 app:app"),
    Shape("granian", 4, 35_500.0, 1_300.0, 0.6, 99.0, 29_000_000, "granian --workers 4 app:app"),
    Shape("Node cluster", 4, 28_000.0, 1_800.0, 0.8, 130.0, 52_000_000, "node server.js"),
    Shape("hypercorn", 4, 9_000.0, 5_400.0, 0.7, 390.0, 40_000_000, "hypercorn -w 4 app:app"),
    Shape("2 workers", 2, 20_900.0, 2_200.0, 0.45, 90.0, 30_000_000),
)


def latencies(median: float, spread: float, count: int) -> dict[int, int]:
    """So many of a log-normal distribution, in µs, with a tail as long as so many would have."""
    counts: dict[int, int] = {}
    edges = [step / STEPS for step in range(1, STEPS)]
    edges += [1 - 10 ** (-power / 6) for power in range(11, 6 * 9)]
    low = given = 0.0
    for high in [*edges, 1.0]:
        many = round(high * count) - given
        if many:
            middle = min(max((low + high) / 2, 0.5 / count), 1 - 0.5 / count)
            value = max(1, round(median * math.exp(spread * _NORMAL.inv_cdf(middle))))
            counts[value] = counts.get(value, 0) + round(many)
            low, given = high, given + many
    return counts


def moments(
    shape: Shape, load: Load, dice: random.Random, errors: Sequence[tuple[int, str, int]]
) -> list[Moment]:
    """The intervals of a turn. `errors`: in which of them so many of a kind happened."""
    made = []
    speed = min(load.rate, shape.throughput) if load.rate else shape.throughput
    for number in range(round(load.duration / INTERVAL)):
        cold = 0.55 + 0.2 * number if number < WARMUP else 1.0
        requests = max(1, round(speed * INTERVAL * cold * dice.gauss(1, 0.012)))
        median = shape.median / cold * dice.gauss(1, 0.02)
        made.append(
            Moment(
                number,
                requests=requests,
                bytes=requests * 180,
                latency=Histogram.of(latencies(median, shape.spread, requests)),
                connections=load.connections,
                cpu=requests * 10e-6,
            )
        )
    for number, kind, many in errors:
        made[number].errors[kind] = made[number].errors.get(kind, 0) + many
    return made


def summed(found: Iterable[Moment]) -> Moment:
    """Several as one."""
    total = Moment(0)
    for moment in found:
        total.requests += moment.requests
        total.bytes += moment.bytes
        total.latency.add(moment.latency)
        total.cpu += moment.cpu
        total.connections = max(total.connections, moment.connections)
        for kind, many in moment.errors.items():
            total.errors[kind] = total.errors.get(kind, 0) + many
    return total


def used(shape: Shape, round_: int, requests: int, dice: random.Random) -> ServerUse:
    """What a server of ours used for so many requests."""
    pids = [1000 * round_ + slot for slot in range(shape.workers)]
    shares = [dice.gauss(1, 0.03) for _ in pids]
    cpu = requests * shape.cpu * dice.gauss(1, 0.01) / 1e6
    split = [share / sum(shares) for share in shares]
    counted = {p: round(requests * s) for p, s in zip(pids[1:], split[1:], strict=True)}
    return ServerUse(
        cpu=cpu,
        cpu_by_worker={pid: cpu * share for pid, share in zip(pids, split, strict=True)},
        requests_by_worker={pids[0]: requests - sum(counted.values()), **counted},
        pss=shape.pss * shape.workers,
        processes=shape.workers + 2,
    )


def turn(
    shape: Shape = ONE,
    round_: int = 1,
    load: Load | None = None,
    *,
    errors: Sequence[tuple[int, str, int]] = (),
    events: Sequence[Event] = (),
    doubts: Sequence[str] = (),
    shared: bool = False,
) -> Turn:
    """One turn of a side. `errors` as for `moments`."""
    load = load or Load(duration=3.0)
    dice = random.Random(f"{shape.name} {round_} {load.rate} {load.connections}")
    shape = replace(shape, throughput=shape.throughput * dice.gauss(1, 0.015))
    found = moments(shape, load, dice, errors)
    total = summed(found[WARMUP:])
    return Turn(
        side=shape.name,
        round=round_,
        load=load,
        seconds=load.duration - WARMUP * INTERVAL,
        warmup=WARMUP,
        requests=total.requests,
        bytes=total.bytes,
        errors=total.errors,
        latency=total.latency,
        lag=Histogram.of(latencies(6, 0.9, total.requests)) if load.rate else None,
        connections=total.connections,
        moments=found,
        events=list(events),
        server=used(shape, round_, total.requests, dice) if shape.workers else None,
        generator=driven(total.cpu, load.duration, shared),
        doubts=list(doubts),
    )


def driven(cpu: float, seconds: float, shared: bool) -> GeneratorUse:
    """What the generator used."""
    share = min(1.0, cpu / seconds)
    return GeneratorUse(1, cpu, share, share, cpus=(0,), shared=shared)


def spin(processes: int = 4) -> Spin:
    """A machine that loses 3 % a core, and 6 % of the cores, when all of them compute."""
    return Spin(processes, [100.0, 101.0], [97.5, 97.0], per_second=0.94, per_cpu=0.97)


def report(
    shapes: Sequence[Shape] = (ONE, ALL), rounds: int = 2, turns: Sequence[Turn] | None = None
) -> Report:
    """Of so many sides and rounds, A B A B; or with these turns."""
    if turns is None:
        turns = [turn(shape, number) for number in range(1, rounds + 1) for shape in shapes]
    return Report(
        target="module:app",
        made="2026-11-22T06:00:00+00:00",
        versions={"clusterd": "0.1.0", "python": "3.13.0", "uvloop": "0.21.0", "linux": "6.8.0"},
        machine={"cpu": "Example 9 4-Core", "cores": "4", "memory": "15.6 GiB"},
        settings={"connections": "64", "duration": "3s", "rounds": str(rounds), "workers": "1,4"},
        sides=[Side(shape.name, shape.command, shape.workers) for shape in shapes],
        requests=(Request(),),
        turns=list(turns),
        spin=spin(),
    )


def crowded() -> Report:
    """Eight sides: as many as a page has to bear."""
    return report((ONE, ALL, *OTHERS))


def scaling(most: int = 8) -> Report:
    """1, 2, 3 … workers, by the Universal Scalability Law (σ = 0.03, κ = 0.001)."""
    shapes = []
    for many in range(1, most + 1):
        speed = many / (1 + 0.03 * (many - 1) + 0.001 * many * (many - 1))
        name = "1 worker" if many == 1 else f"{many} workers"
        shapes.append(replace(ONE, name=name, workers=many, throughput=11_000 * speed))
    made = report(shapes)
    made.machine["cores"] = str(most)
    return made


def ladder_of_connections(shapes: Sequence[Shape] = (ONE, ALL)) -> Report:
    """1 → 4096 connections: throughput rises and stays, latency grows with who waits."""
    turns = []
    for connections in (1, 4, 16, 64, 256, 1024, 4096):
        for shape in shapes:
            full = shape.throughput * connections / (connections + 6 * shape.workers)
            at = replace(shape, throughput=full, median=1e6 * connections / full * 0.8)
            turns.append(turn(at, 1, Load(connections=connections, duration=2.0)))
    return report(shapes, 1, turns)


def ladder_of_rates(shapes: Sequence[Shape] = (ONE, ALL)) -> Report:
    """An open loop at growing rates, and the search for the highest that keeps a target."""
    turns, searches = [], []
    for shape in shapes:
        for share in (0.2, 0.4, 0.6, 0.75, 0.85, 0.92, 0.96):
            load = Load(rate=round(shape.throughput * share, -2), duration=2.0)
            at = replace(shape, median=300 / (1 - share), spread=0.3 + share / 2)
            turns.append(turn(at, 1, load))
        rate = round(shape.throughput * 0.92, -2)
        searches.append(Search("p99<50ms", shape.name, rate, bounded_by="server"))
    made = report(shapes, 1, turns)
    made.searches = searches
    return made


def chaos() -> Report:
    """Workers are killed, the server reloads, a deploy is broken; some requests fail, by kind."""
    load = Load(duration=10.0, rate=8_000.0)
    events = [Event(at, "kill", f"pid {1000 + number}") for number, at in enumerate((2, 4, 6, 8))]
    events += [Event(3.0, "reload"), Event(7.0, "broken deploy", "the import raises")]
    events += [Event(7.6, "recovered")]
    errors = [(8, "reset", 9), (16, "reset", 12), (24, "closed", 3), (28, "status 503", 40)]
    turns = [
        turn(shape, number, load, events=events, errors=errors)
        for number in (1, 2)
        for shape in (ONE, ALL)
    ]
    return report((ONE, ALL), 2, turns)


def doubtful() -> Report:
    """The generator was the bottleneck, cores were shared, and it was interrupted."""
    said = [
        "the generator was the bottleneck: its busiest process used 99 % of a core",
        "the generator and the server shared cores",
    ]
    made = report(turns=[turn(ONE), turn(ALL, doubts=said, shared=True)])
    made.turns[1].partial = True
    made.interrupted = True
    made.notes.append("too few rounds to tell noise from change")
    return made


Maker = Callable[[], Report]
