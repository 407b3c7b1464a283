"""What the master tells for metrics, over deaths, rolls, scaling and an upgrade."""

import json
import random
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from clusterd.core.events import Kind
from clusterd.fleet.plan import plan
from clusterd.ipc.scoreboard import BUCKETS, TOTALS, Cell
from clusterd.master import loop, orders
from clusterd.master.commands import answer
from clusterd.master.control import Control
from clusterd.observe.metrics import exposition
from tests.support.fake import Child
from tests.support.scrape import counters, decreased, value
from tests.support.simulated import Simulation, simulated


def scrape(sim: Simulation) -> str:
    """As the admin endpoint has it: what goes over the control socket."""
    reply = answer(sim.cluster, {"command": "metrics"})
    return exposition(json.loads(json.dumps(reply)))


def serve(sim: Simulation, chance: random.Random) -> int:
    """Every worker counts something; how many requests."""
    total = 0
    for worker in sim.group.roster.workers.values():
        row, count = sim.group.board.row(worker.row), chance.randrange(1, 50)
        for cell in (*TOTALS, Cell.CPU):
            row[cell] += count
        total += count
    return total


def victim(sim: Simulation, chance: random.Random) -> Child:
    return chance.choice(sim.kernel.workers())


def test_no_counter_goes_back_over_fifty_deaths_and_none_is_lost() -> None:
    chance = random.Random(5)
    with simulated(3) as sim:
        sim.start()
        before, total = counters(scrape(sim)), 0
        for _ in range(50):
            total += serve(sim, chance)
            sim.kernel.kill(victim(sim, chance).pid, signal.SIGKILL)
            for _ in range(3):  # while it is dead, reaped, ordered anew
                after = counters(scrape(sim))
                assert not list(decreased(before, after))
                before = after
                sim.turn()
            sim.until(lambda: sim.ready() == 3)
        page = scrape(sim)
        assert not list(decreased(before, counters(page)))
        assert value(page, "clusterd_requests_total", group="web", code="2xx") == total
        of_slots = [
            value(page, "clusterd_worker_requests_total", group="web", slot=str(slot))
            for slot in range(3)
        ]
        assert sum(of_slots) == total
        count = value(page, "clusterd_request_duration_seconds_count", group="web")
        assert count == total * BUCKETS
        assert value(page, "clusterd_worker_exits_total", group="web", cause="killed") == 50
        restarts = [
            value(page, "clusterd_worker_restarts_total", group="web", slot=str(slot))
            for slot in range(3)
        ]
        assert sum(restarts) == 50


def test_no_counter_goes_back_over_a_reload_a_scaling_and_an_upgrade() -> None:
    chance = random.Random(6)
    with simulated(2) as sim:
        sim.start()
        before = counters(scrape(sim))
        changes: tuple[Callable[[], object], ...] = (
            lambda: sim.reload(),
            lambda: sim.order(lambda: orders.scale(sim.group, 4, "test")),
            lambda: sim.order(lambda: orders.upgrade(sim.cluster, "test")),
            lambda: sim.kernel.kill(victim(sim, chance).pid, signal.SIGKILL),
            lambda: sim.reload(),
        )
        for change in changes:
            serve(sim, chance)
            change()
            for _ in range(40):
                sim.turn()
                after = counters(scrape(sim))
                assert not list(decreased(before, after))
                before = after
            sim.settle()
        page = scrape(sim)
        assert sim.find(Kind.UPGRADED)
        assert value(page, "clusterd_rollouts_total", group="web", outcome="finished") == 2
        assert value(page, "clusterd_events_total", group="web", kind="exited") == len(
            sim.find(Kind.EXITED)
        )


def test_a_slot_that_comes_back_goes_on_where_it_was() -> None:
    """In between its series is missing, which is no decrease; from 0 again would be one."""
    chance = random.Random(7)
    with simulated(3) as sim:
        sim.start()
        serve(sim, chance)
        where = {"group": "web", "slot": "2"}
        was = value(scrape(sim), "clusterd_worker_requests_total", **where)
        sim.order(lambda: orders.scale(sim.group, 2, "test"))
        sim.settle()
        assert 'slot="2"' not in scrape(sim)
        sim.order(lambda: orders.scale(sim.group, 3, "test"))
        sim.settle()
        assert value(scrape(sim), "clusterd_worker_requests_total", **where) == was


def test_asking_is_no_event() -> None:
    """Or a scrape would fill the journal, and wake those who follow it."""
    with simulated(1) as sim:
        sim.start()
        last = sim.cluster.journal.last
        scrape(sim)
        assert sim.cluster.journal.last == last


def test_who_only_looks_has_nothing_planned_and_puts_nothing_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned: list[float] = []

    def count(*args: Any) -> Any:
        planned.append(sim.kernel.now())
        return plan(*args)

    with simulated(1) as sim, socket.socket(socket.AF_UNIX) as caller:
        control = sim.loop.control = Control(sim.cluster, str(tmp_path / "sock"))
        sim.start()
        sim.settle()
        caller.connect(control.path)
        caller.settimeout(30)
        sim.turn()
        monkeypatch.setattr(loop, "plan", count)

        def ask(command: str) -> bool:
            """Whether a plan came of it."""
            caller.sendall(json.dumps({"command": command}).encode() + b"\n")
            before = len(planned)
            sim.turn()
            assert json.loads(caller.makefile("rb").readline())["ok"]
            return len(planned) > before

        assert not ask("metrics")
        assert not ask("status")
        assert ask("pause")
        sim.settle()
        assert not ask("metrics")
        sim.loop.due = sim.kernel.now()
        assert ask("metrics"), "what is due is not put off by those who look"
        control.close()
