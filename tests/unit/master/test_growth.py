"""Autoscaling in the master's loop: when it looks, when it must not, and who has the last word."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from clusterd.core.errors import ConfigError
from clusterd.core.events import Kind
from clusterd.fleet.autoscale import Rules
from clusterd.ipc.scoreboard import Cell
from clusterd.master import orders, report
from tests.support.fake import Behaviour, Child
from tests.support.simulated import Simulation, simulated

STEP = Rules().interval


class Load:
    """What the workers' rows say: a pulse a second, and how much of a core each uses."""

    def __init__(self, sim: Simulation) -> None:
        self.sim = sim
        self.share = 0.0
        self.connections = 0
        self._pulse()

    def _pulse(self) -> None:
        for child in self.sim.kernel.workers():
            self._write(child)
        self.sim.kernel.after(1.0, self._pulse)

    def _write(self, child: Child) -> None:
        row = self.sim.group.board.row(child.row)
        row[Cell.HEARTBEAT] = int(self.sim.kernel.time * 1e6)
        row[Cell.CPU] += int(self.share * 1e6)
        row[Cell.CONNECTIONS] = self.connections

    def run(self, seconds: float) -> list[int]:
        """The sizes that were wanted since the start."""
        end = self.sim.kernel.time + seconds
        while self.sim.kernel.time < end:
            self.sim.loop.due = min(self.sim.loop.due, end)
            self.sim.turn()
        return [event.fields["size"] for event in self.sim.find(Kind.SCALED)]


@contextmanager
def scaling(
    workers: int = 2, how: Behaviour | None = None, highest: int = 6
) -> Iterator[tuple[Simulation, Load]]:
    """A cluster that scales itself, on a machine of many CPUs."""
    behaviour = how or Behaviour()
    with simulated(workers, lambda _: behaviour, max_workers=highest) as sim:
        sim.start()
        sim.turn()
        assert sim.group.autoscale is not None
        sim.group.autoscale.cpus = 64
        load = Load(sim)
        load.run(STEP)
        yield sim, load


def test_a_busy_group_grows_and_a_quiet_one_shrinks_by_itself() -> None:
    with scaling() as (sim, load):
        load.share = 1.0
        assert load.run(120) == [3, 4, 5, 6]
        assert sim.ready() == 6
        (first, *_) = sim.find(Kind.SCALED)
        assert first.fields["reason"] == "autoscaling: workers are 100% busy for 10 s, by their CPU"
        load.share = 0.05
        assert load.run(600) == [3, 4, 5, 6, 5, 4, 3, 2, 1]
        sim.until(lambda: sim.ready() == 1)


def test_connections_count_against_what_a_worker_may_hold() -> None:
    with scaling() as (sim, load):
        load.connections = int(0.9 * sim.config.http.max_connections)
        assert load.run(20) == [3]


def test_without_max_workers_the_master_does_not_wake() -> None:
    with simulated(2) as sim:
        sim.start()
        sim.settle()
        sim.turn()
        assert sim.kernel.idle
        assert sim.group.autoscale is None


def test_it_wakes_once_an_interval() -> None:
    with scaling() as (sim, load):
        load.share = 0.6
        waits = sim.kernel.waits
        load.run(100 * STEP)
        assert sim.kernel.waits - waits == pytest.approx(100, abs=2)


def test_what_a_hand_has_set_stays_until_it_is_let_go() -> None:
    with scaling() as (sim, load):
        load.share = 1.0
        sim.order(lambda: orders.scale(sim.group, 2, "clusterd scale"))
        sim.order(lambda: orders.scale(sim.group, 1, "clusterd scale"))
        assert load.run(600) == [1]
        assert sim.order(lambda: orders.scale_by_load(sim.group)) == 1
        assert load.run(60)[:3] == [1, 2, 3]


def test_while_a_hand_holds_it_the_master_sleeps() -> None:
    with simulated(2, max_workers=4) as sim:
        sim.start()
        sim.order(lambda: orders.scale(sim.group, 2, "clusterd scale"))
        sim.settle()
        sim.turn()
        assert sim.kernel.idle


def test_there_is_nothing_to_let_go_where_it_is_off() -> None:
    with simulated(2) as sim, pytest.raises(ConfigError, match="off"):
        orders.scale_by_load(sim.group)


def test_it_keeps_still_during_a_rollout() -> None:
    """Its canary, and workers that are just born, say nothing about the load of the next hour."""
    with scaling() as (sim, load):
        sim.group.patience = replace(sim.group.patience, min_ready=300.0)
        load.share = 1.0
        sim.reload()
        assert load.run(250) == []
        assert load.run(120) != [], "it goes on afterwards"


def test_it_keeps_still_while_workers_are_missing_or_paused() -> None:
    with scaling() as (sim, load):
        load.share = 1.0
        sim.order(lambda: orders.pause(sim.group))
        assert load.run(100) == []
        sim.order(lambda: orders.resume(sim.group))
        sim.until(lambda: sim.ready() == 2)
        how = sim.kernel.zygotes()[0].behaviour
        how.ready_time = 50.0
        sim.kernel.end(sim.kernel.workers()[0], 1)
        assert load.run(50) == []
        assert load.run(20) != []


def test_other_bounds_come_with_a_reload_and_end_what_a_hand_has_set() -> None:
    with scaling() as (sim, load):
        load.share = 0.6
        sim.order(lambda: orders.scale(sim.group, 3, "clusterd scale"))
        sim.config = replace(sim.config, fleet=replace(sim.config.fleet, min_workers=5))
        sim.reload()
        assert load.run(60) == [3, 5]
        assert sim.find(Kind.SCALED)[-1].fields["reason"] == "autoscaling: 5 to 6 are allowed"
        sim.config = replace(sim.config, fleet=replace(sim.config.fleet, max_workers=0))
        sim.reload()
        load.run(60)
        assert sim.group.autoscale is None


def test_it_goes_on_while_workers_are_recycled() -> None:
    """Who is to leave is no measure, and its successor is judged once it was seen twice."""
    with scaling(4, how=Behaviour(recycles_after=20.0)) as (sim, load):
        load.share = 0.6
        assert load.run(1800) == []
        assert sum(sim.group.recycled.values()) > 300
        load.share = 1.0
        assert load.run(120)[:1] == [5]


def test_status_says_what_decides_on_the_size() -> None:
    with scaling() as (sim, _load):
        (group,) = report.status(sim.cluster)["groups"]
        assert group["scaling"] == {"lowest": 1, "highest": 6, "by_hand": False}
        sim.order(lambda: orders.scale(sim.group, 3, "clusterd scale"))
        (group,) = report.status(sim.cluster)["groups"]
        assert group["scaling"]["by_hand"]
    with simulated(2) as sim:
        sim.start()
        assert report.status(sim.cluster)["groups"][0]["scaling"] is None
