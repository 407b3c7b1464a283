"""The master's `metrics` reply as Prometheus and OpenMetrics read it.

The reply has, for each group, the totals of its dead processes and the rows of the living, so that
counters are sums which no death makes smaller. Rows come as they lie in the scoreboard, and what
they mean is worked out here: the master has other things to do.

The text is written here and not by prometheus_client, which takes fifteen times as long (measured):
a scrape of 64 workers would stop the endpoint for 20 ms. What changes from scrape to scrape is the
numbers, so all else is kept as a form which they are filled in, metric by metric. Tests read pages
with prometheus_client.
"""

import functools
import itertools
import operator
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from clusterd.ipc.scoreboard import BUCKETS, SLOTTED, TOTALS, Cell
from clusterd.observe.catalogue import (
    CAUSES,
    CLUSTER,
    HISTOGRAM,
    OF_GROUPS,
    OF_SLOTS,
    OUTCOMES,
    TALLIES,
    Metric,
)

Reply = Mapping[str, Any]
Numbers = Sequence[float]
Labels = tuple[str, ...]  # the values of a metric's labels

STATES = ("starting", "waiting", "serving", "rolling", "degraded", "paused", "stopping")
PHASES = ("booting", "ready", "leaving", "draining", "killed")
CLASSES = {
    "1xx": Cell.ANSWERED_1XX,
    "2xx": Cell.ANSWERED_2XX,
    "3xx": Cell.ANSWERED_3XX,
    "4xx": Cell.ANSWERED_4XX,
    "5xx": Cell.ANSWERED_5XX,
}
# Words that a count begins at 0 with: who watches how it grows must have seen it before.
KNOWN: dict[str, Iterable[str]] = {"rollouts": OUTCOMES, "exits": CAUSES}

# A worker in a reply: its slot, its phase, the monotonic µs of its birth, then the cells.
SLOT, PHASE, BORN, CELLS = range(4)
IN_FLIGHT, CONNECTIONS = CELLS + Cell.IN_FLIGHT, CELLS + Cell.CONNECTIONS
OLDEST_REQUEST, HEARTBEAT = CELLS + Cell.OLDEST_REQUEST, CELLS + Cell.HEARTBEAT
REQUESTS, ACCEPTED, CPU = CELLS + Cell.REQUESTS, CELLS + Cell.ACCEPTED, CELLS + Cell.CPU
LOOP_LAG, MEMORY = CELLS + Cell.LOOP_LAG, CELLS + Cell.MEMORY
HELD = CELLS + Cell.HELD
SPOOLED = CELLS + Cell.SPOOLED

# Of the scoreboard's buckets those that end between 64 µs and 67 s; bucket i ends at 2^i µs.
FIRST, LAST = 6, 26
BOUNDS = (*(repr(2**bucket / 1e6) for bucket in range(FIRST, LAST + 1)), "+Inf")
END = "# EOF\n"  # of what is OpenMetrics


def exposition(reply: Reply, openmetrics: bool = False) -> str:
    """Every metric of the catalogue, in its order. With OpenMetrics `END` is still to follow."""
    groups = [Group(one, reply["now"]) for one in reply["groups"]]
    groups.sort(key=lambda group: not group.is_app)  # so that applications are the first of all
    return (
        _of_the_cluster(reply, openmetrics)
        + _tallies(reply, openmetrics)
        + _of_groups(groups, openmetrics)
        + _of_slots(groups, openmetrics)
    )


def _of_the_cluster(reply: Reply, openmetrics: bool) -> str:
    state = str(reply["state"])
    states = STATES if state in STATES else (*STATES, state)
    series = (
        ((str(reply["version"]), str(reply["python"])),),
        ((),),
        tuple((one,) for one in states),
        ((),),
        ((),),
    )
    numbers = (
        1,
        reply["uptime"],
        *(int(one == state) for one in states),
        reply["journal"],
        reply["cpu"],
    )
    return form(CLUSTER, series, openmetrics) % numbers


def _tallies(reply: Reply, openmetrics: bool) -> str:
    """Counts by group and word."""
    series: list[tuple[Labels, ...]] = []
    numbers: list[float] = []
    names = [str(group["name"]) for group in reply["groups"]]
    for tally in TALLIES:
        counts: Mapping[str, Mapping[str, int]] = reply[tally]
        each: list[Labels] = []
        for group in dict.fromkeys([*counts, *names]):
            found = {**dict.fromkeys(KNOWN.get(tally, ()), 0), **counts.get(group, {})}
            each += zip(itertools.repeat(group), found, strict=False)
            numbers += found.values()
        series.append(tuple(each))
    return form(tuple(TALLIES.values()), tuple(series), openmetrics) % tuple(numbers)


def _of_groups(groups: "list[Group]", openmetrics: bool) -> str:
    phases = tuple(tuple(group.phases) for group in groups)
    apps = sum(group.is_app for group in groups)
    text = form_of_groups(tuple(group.name for group in groups), apps, phases, openmetrics)
    found = [group.numbers() for group in groups]
    columns = [
        one[metric.name]
        for metric in OF_GROUPS
        for one in found[: apps if metric.of_apps else None]
    ]
    return text % tuple(itertools.chain.from_iterable(columns))


def _of_slots(groups: "list[Group]", openmetrics: bool) -> str:
    slots = [(group.name, str(slot)) for group in groups for slot in group.slots]
    apps = sum(len(group.slots) for group in groups if group.is_app)
    rows = [group.of_slot(slot) for group in groups for slot in group.slots]
    text = form_of_slots(tuple(slots), apps, openmetrics)
    return text % tuple(
        [
            row[metric.name]
            for metric in OF_SLOTS
            for row in rows[: apps if metric.of_apps else None]
        ]
    )


# Forms.


@functools.lru_cache(maxsize=64)
def form(
    metrics: tuple[Metric, ...], series: tuple[tuple[Labels, ...], ...], openmetrics: bool
) -> str:
    """Some metrics, each with its series, and `%s` where the numbers go."""
    pieces: list[str] = []
    for metric, each in zip(metrics, series, strict=True):
        pieces.append(heading(metric, openmetrics))
        pieces += [line(metric.full, metric.labels, labels) for labels in each]
    return "".join(pieces)


@functools.lru_cache(maxsize=64)
def form_of_slots(slots: tuple[Labels, ...], apps: int, openmetrics: bool) -> str:
    """The metrics of slots, which have no label but the group and the slot. `apps`: how many of
    them, the first, have an application."""
    series = tuple(slots[:apps] if metric.of_apps else slots for metric in OF_SLOTS)
    return form(OF_SLOTS, series, openmetrics)


@functools.lru_cache(maxsize=64)
def form_of_groups(names: Labels, apps: int, phases: tuple[Labels, ...], openmetrics: bool) -> str:
    """The metrics of groups, some of which have a second label; `apps` as with slots."""
    pieces: list[str] = []
    for metric in OF_GROUPS:
        pieces.append(heading(metric, openmetrics))
        shown = apps if metric.of_apps else None
        for name, own_phases in zip(names[:shown], phases[:shown], strict=True):
            if metric.kind == HISTOGRAM:
                bucket, with_bound = metric.full + "_bucket", (*metric.labels, "le")
                pieces += [line(bucket, with_bound, (name, bound)) for bound in BOUNDS]
                pieces += [line(metric.full + end, ("group",), (name,)) for end in ENDS]
                continue
            second = {"phase": own_phases, "code": CLASSES}.get(metric.labels[-1])
            for labels in ((name, word) for word in second) if second else ((name,),):
                pieces.append(line(metric.full, metric.labels, labels))
    return "".join(pieces)


ENDS = ("_count", "_sum")


def heading(metric: Metric, openmetrics: bool) -> str:
    """What stands above the samples. To OpenMetrics a counter's `_total` is of its samples."""
    name = metric.full.removesuffix("_total") if openmetrics else metric.full
    unit = f"# UNIT {name} {metric.unit}\n" if openmetrics and metric.unit else ""
    return f"# HELP {name} {metric.help}\n# TYPE {name} {metric.kind}\n{unit}".replace("%", "%%")


def line(name: str, labels: Labels, values: Labels) -> str:
    """A sample, whose number is to come."""
    pairs = zip(labels, map(_escaped, values), strict=True)
    inner = ",".join(f'{label}="{value}"' for label, value in pairs)
    series = f"{name}{{{inner}}}" if inner else name
    return f"{series.replace('%', '%%')} %s\n"


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


# Numbers.

TALLIED = operator.itemgetter(*(CELLS + cell for cell in TOTALS))
OF_REQUESTS, OF_ACCEPTED, OF_CPU = map(SLOTTED.index, (Cell.REQUESTS, Cell.ACCEPTED, Cell.CPU))
NOTHING = (0,) * len(TOTALS)
NONE_LEFT = (0,) * len(SLOTTED)
BASE = TOTALS[0]  # totals are cells in a row, so that a cell's place is told by its number


class Group:
    """A group of a reply, its living and dead added up."""

    def __init__(self, reply: Reply, now: int) -> None:
        self.reply = reply
        self.now = now
        self.name = str(reply["name"])
        self.is_app = reply["kind"] == "app"
        self.workers: list[Sequence[Any]] = reply["workers"]
        living = map(TALLIED, self.workers)
        self._totals = list(map(sum, zip(reply["totals"] or NOTHING, *living, strict=True)))
        self._by_slot: dict[int, list[Sequence[Any]]] = {}
        for worker in self.workers:
            self._by_slot.setdefault(worker[SLOT], []).append(worker)
        self.slots = sorted(self._by_slot.keys() | set(range(reply["size"])))
        self.phases = dict.fromkeys(PHASES, 0)
        for worker in self.workers:
            self.phases[worker[PHASE]] = self.phases.get(worker[PHASE], 0) + 1

    def total(self, cell: int) -> int:
        """A counter of all processes that the group ever had."""
        return self._totals[cell - BASE]

    def numbers(self) -> dict[str, Numbers]:
        """Those of each metric in `OF_GROUPS`."""
        reply, total = self.reply, self.total
        return {
            "group_workers_wanted": (reply["size"],),
            "group_workers_ready": (reply["ready"],),
            "group_workers": tuple(self.phases.values()),
            "group_generation": (reply["generation"],),
            "group_rolling": (int(reply["rolling"]),),
            "requests": [total(cell) for cell in CLASSES.values()],
            "application_errors": (total(Cell.APP_ERRORS),),
            "request_duration_seconds": self._durations(),
            "requests_in_flight": (sum(worker[IN_FLIGHT] for worker in self.workers),),
            "received_bytes": (total(Cell.BYTES_IN),),
            "sent_bytes": (total(Cell.BYTES_OUT),),
            "connections": (sum(worker[CONNECTIONS] for worker in self.workers),),
            "connections_accepted": (total(Cell.ACCEPTED),),
            "connections_handed_over": (total(Cell.HANDED_OVER),),
            "connections_taken_over": (total(Cell.TAKEN_OVER),),
            "accepts_held_back": (total(Cell.HELD_BACK),),
            "accept_balance_ratio": (self.balance,),
        }

    def _durations(self) -> Numbers:
        """Cumulative buckets, the last of which is also the count; the sum is exact."""
        start = Cell.LATENCY - BASE
        grown = list(itertools.accumulate(self._totals[start : start + BUCKETS]))
        return [*grown[FIRST : LAST + 1], grown[-1], grown[-1], self.total(Cell.LATENCY_SUM) / 1e6]

    @property
    def balance(self) -> float:
        """Most by mean of what the ready workers accepted; 1 while nobody accepted anything."""
        accepted = [w[ACCEPTED] for w in self.workers if w[PHASE] == "ready"]
        return max(accepted) * len(accepted) / sum(accepted) if sum(accepted) else 1.0

    def of_slot(self, slot: int) -> dict[str, float]:
        """Those of each metric in `OF_SLOTS`: of its living processes, two during a roll, and in
        counters also of its dead. Ages are those of the worst."""
        rows = self._by_slot.get(slot, ())
        left = self.reply["slots"].get(str(slot)) or NONE_LEFT
        return {
            "worker_requests": left[OF_REQUESTS] + sum([row[REQUESTS] for row in rows]),
            "worker_connections_accepted": left[OF_ACCEPTED] + sum([row[ACCEPTED] for row in rows]),
            "worker_cpu_seconds": (left[OF_CPU] + sum([row[CPU] for row in rows])) / 1e6,
            "worker_restarts": self.reply["restarts"].get(str(slot), 0),
            "worker_processes": len(rows),
            "worker_connections": sum([row[CONNECTIONS] for row in rows]),
            "worker_requests_in_flight": sum([row[IN_FLIGHT] for row in rows]),
            "worker_oldest_request_seconds": self._age([row[OLDEST_REQUEST] for row in rows]),
            "worker_loop_lag_seconds": max([row[LOOP_LAG] for row in rows], default=0) / 1e6,
            "worker_heartbeat_age_seconds": self._age([row[HEARTBEAT] for row in rows]),
            "worker_memory_bytes": sum([row[MEMORY] for row in rows]),
            "worker_held_bytes": sum([row[HELD] for row in rows]),
            "worker_spooled_bytes": sum([row[SPOOLED] for row in rows]),
            "worker_uptime_seconds": self._age([row[BORN] for row in rows]),
        }

    def _age(self, times: list[int]) -> float:
        """Seconds since the earliest of them; 0 means none."""
        if 0 in times:
            times = [one for one in times if one]
        return max(0, self.now - min(times, default=self.now)) / 1e6
