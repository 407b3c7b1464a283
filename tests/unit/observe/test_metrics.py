"""The reply of the master as Prometheus reads it."""

import random
import shutil
import subprocess
from typing import Any

import pytest

from clusterd.ipc.scoreboard import BUCKETS, SLOTTED, TOTALS, WIDTH, Cell
from clusterd.observe import metrics
from clusterd.observe.catalogue import CAUSES, METRICS
from clusterd.observe.metrics import END, exposition
from tests.support.scrape import families, value, values

NOW = 5_000_000_000


def worker(slot: int, phase: str = "ready", born: int = NOW, **cells: int) -> list[Any]:
    """A process of a reply, by the names of its cells."""
    row = [0] * WIDTH
    for name, number in cells.items():
        row[Cell[name]] = number
    return [slot, phase, born, *row]


def group(name: str = "web", *workers: list[Any], **fields: Any) -> dict[str, Any]:
    """A group of a reply."""
    return {
        "name": name, "kind": "app", "internal": False, "state": "serving", "size": 2, "ready": 2,
        "generation": 3, "rolling": False, "totals": [0] * len(TOTALS), "slots": {},
        "restarts": {}, "workers": list(workers), **fields,
    }  # fmt: skip


def reply(*groups: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """What the master says."""
    return {
        "ok": True, "version": "0.1.0", "python": "3.13.0", "state": "serving", "uptime": 7.5,
        "now": NOW, "cpu": 0.25, "journal": 17, "events": {}, "exits": {}, "rollouts": {},
        "groups": list(groups), **fields,
    }  # fmt: skip


def busy(seed: int, workers: int) -> dict[str, Any]:
    """A reply full of numbers."""
    chance = random.Random(seed)

    def row(slot: int) -> list[Any]:
        return [slot, "ready", 1, *(chance.randrange(10**9) for _ in range(WIDTH))]

    return reply(
        group("web", *map(row, range(workers)), size=workers, restarts={"1": 4}),
        group("jobs", row(0), kind="command", totals=[chance.randrange(99) for _ in TOTALS]),
        events={"": {"started": 1}, "web": {"spawned": 9, "exited": 2}},
        exits={"web": {"killed": 2, "of the future": 1}},
    )


@pytest.mark.parametrize("openmetrics", [False, True], ids=["text", "openmetrics"])
@pytest.mark.parametrize("workers", [0, 1, 3, 64])
def test_a_page_is_strictly_what_its_format_wants(workers: int, openmetrics: bool) -> None:
    page = exposition(busy(1, workers), openmetrics) + END * openmetrics
    found = {family.name: family for family in families(page)}
    for metric in METRICS:
        family = found.pop(metric.full.removesuffix("_total"))
        assert (family.type, family.documentation) == (metric.kind, metric.help)
        assert family.unit == (metric.unit if openmetrics else "")
    assert not found


def test_both_formats_say_the_same() -> None:
    shown = busy(2, 5)
    assert values(exposition(shown)) == values(exposition(shown, openmetrics=True) + END)


def test_labels_may_be_anything() -> None:
    """What stands in a form is no part of its numbers, and what breaks a line is escaped."""
    page = exposition(reply(group(), state='be"fud\\dled\nby 100 %s'))
    assert value(page, "clusterd_state", state='be"fud\\dled\nby 100 %s') == 1
    assert value(page, "clusterd_state", state="serving") == 0


def test_counters_are_those_of_the_living_and_the_dead() -> None:
    totals = [7 if cell == Cell.ANSWERED_2XX else 0 for cell in TOTALS]
    left = [
        5 if cell == Cell.REQUESTS else 2_500_000 if cell == Cell.CPU else 0 for cell in SLOTTED
    ]
    page = exposition(
        reply(
            group(
                "web",
                worker(0, REQUESTS=10, ANSWERED_2XX=10, CPU=500_000),
                worker(0, "draining", REQUESTS=1, ANSWERED_2XX=1),
                worker(1, REQUESTS=3),
                totals=totals,
                slots={"0": left, "7": left},
                restarts={"0": 2},
            )
        )
    )
    assert value(page, "clusterd_requests_total", group="web", code="2xx") == 18
    where = {"group": "web", "slot": "0"}
    assert value(page, "clusterd_worker_requests_total", **where) == 16
    assert value(page, "clusterd_worker_cpu_seconds_total", **where) == 3.0
    assert value(page, "clusterd_worker_restarts_total", **where) == 2
    assert value(page, "clusterd_worker_processes", **where) == 2
    assert value(page, "clusterd_worker_requests_total", group="web", slot="1") == 3
    assert 'slot="7"' not in page, "a slot that the group no longer has"


def test_a_program_has_no_requests_and_no_connections() -> None:
    web, jobs = group("web", worker(0, REQUESTS=3)), group("jobs", worker(0), kind="command")
    page = exposition(reply(jobs, web))
    found = {family.name: family.samples for family in families(page)}
    for metric in METRICS:
        samples = found[metric.full.removesuffix("_total")]
        groups = {sample.labels.get("group") for sample in samples}
        assert ("jobs" in groups) == (groups != {None} and not metric.of_apps) or not samples
    assert value(page, "clusterd_worker_requests_total", group="web", slot="0") == 3
    assert value(page, "clusterd_worker_processes", group="jobs", slot="0") == 1


def test_a_slot_without_a_process_keeps_its_counters() -> None:
    """It is wanted, and its worker has just died."""
    left = [5 if cell == Cell.REQUESTS else 0 for cell in SLOTTED]
    page = exposition(reply(group("web", size=1, slots={"0": left})))
    where = {"group": "web", "slot": "0"}
    assert value(page, "clusterd_worker_requests_total", **where) == 5
    assert value(page, "clusterd_worker_processes", **where) == 0
    assert value(page, "clusterd_worker_heartbeat_age_seconds", **where) == 0


def test_every_bucket_of_the_scoreboard_is_in_the_histogram() -> None:
    """A worker counts an answer of n µs in bucket n.bit_length(); `le` is never below n µs."""
    row = worker(0)
    for bucket in range(BUCKETS):
        row[metrics.CELLS + Cell.LATENCY + bucket] = 1
    row[metrics.CELLS + Cell.LATENCY_SUM] = 1_500_000
    page = exposition(reply(group("web", row)))
    name = "clusterd_request_duration_seconds"
    assert value(page, f"{name}_count", group="web") == BUCKETS
    assert value(page, f"{name}_sum", group="web") == 1.5
    assert value(page, f"{name}_bucket", group="web", le="6.4e-05") == 7  # 0 to 63 µs
    assert (63).bit_length() == 6
    assert value(page, f"{name}_bucket", group="web", le="1.048576") == 21
    assert value(page, f"{name}_bucket", group="web", le="+Inf") == BUCKETS


def test_ages_are_those_of_the_worst() -> None:
    page = exposition(
        reply(
            group(
                "web",
                worker(0, born=NOW - 9_000_000, HEARTBEAT=NOW - 200_000, LOOP_LAG=3000),
                worker(0, HEARTBEAT=NOW - 1_000_000, LOOP_LAG=500, OLDEST_REQUEST=NOW - 250_000),
            )
        )
    )
    where = {"group": "web", "slot": "0"}
    assert value(page, "clusterd_worker_heartbeat_age_seconds", **where) == 1.0
    assert value(page, "clusterd_worker_loop_lag_seconds", **where) == 0.003
    assert value(page, "clusterd_worker_oldest_request_seconds", **where) == 0.25
    assert value(page, "clusterd_worker_uptime_seconds", **where) == 9.0


def test_balance_is_of_ready_workers_and_1_where_nobody_accepted() -> None:
    name = "clusterd_accept_balance_ratio"
    assert value(exposition(reply(group("web", worker(0)))), name, group="web") == 1.0
    rows = [worker(0, ACCEPTED=30), worker(1, ACCEPTED=10), worker(2, "draining", ACCEPTED=900)]
    assert value(exposition(reply(group("web", *rows))), name, group="web") == 1.5


def test_what_never_happened_is_0_and_not_missing() -> None:
    """Or its first time would be no growth to who asks for the rate."""
    page = exposition(reply(group("web"), exits={"web": {"oom": 1}}))
    for cause in CAUSES:
        got = value(page, "clusterd_worker_exits_total", group="web", cause=cause)
        assert got == (cause == "oom")
    assert value(page, "clusterd_rollouts_total", group="web", outcome="failed") == 0


def test_promtool_finds_nothing_to_say() -> None:
    """Prometheus' own judge, where it is installed."""
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed")
    page = exposition(busy(3, 4))
    done = subprocess.run(
        [promtool, "check", "metrics"], input=page, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
