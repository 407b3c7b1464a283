"""Recycling seen by the master: the replacement first, one at a time, and nobody's fault."""

import signal
from collections.abc import Callable
from math import inf

import pytest

from clusterd.core.events import Kind
from clusterd.fleet.lifecycle import Phase
from clusterd.ipc.messages import Drain, Leaving
from tests.support.fake import Behaviour
from tests.support.simulated import Simulation, simulated


def recycle(sim: Simulation, *slots: int) -> None:
    """Have the workers of these slots ask to be replaced."""
    for child in sim.kernel.workers():
        if child.slot in slots:
            child.channel.send(Leaving("max_requests: 1000 served", recycle=True))


def follow(sim: Simulation, seconds: float, each: Callable[[], None] = lambda: None) -> None:
    """Turn for so long; the master is woken at least once a second."""
    end = sim.kernel.time + seconds
    while sim.kernel.time < end:
        sim.loop.due = min(sim.loop.due, sim.kernel.time + 1)
        sim.turn()
        each()


def test_the_replacement_is_ready_before_the_old_worker_is_told() -> None:
    with simulated(2) as sim:
        sim.start()
        old = sim.kernel.workers()[0]
        recycle(sim, 0)
        sim.settle()
        kinds = [
            event.kind
            for event in sim.events
            if event.kind in (Kind.LEAVING, Kind.READIED, Kind.RETIRED)
        ]
        assert kinds[-3:] == [Kind.LEAVING, Kind.READIED, Kind.RETIRED]
        assert sim.find(Kind.LEAVING, pid=old.pid, recycle=True)
        assert sim.find(Kind.RETIRED, pid=old.pid, reason="recycled")
        assert sim.find(Kind.EXITED, pid=old.pid, asked=True)
        (drain,) = [message for message in old.heard if isinstance(message, Drain)]
        assert (drain.why, drain.handover, drain.last) == ("recycled", True, False)
        assert sim.fewest == 2


def test_it_is_counted_apart_from_deaths() -> None:
    with simulated(2) as sim:
        sim.start()
        recycle(sim, 1)
        sim.settle()
        sim.kernel.kill(sim.kernel.workers()[0].pid, signal.SIGKILL)
        sim.settle()
        assert sim.group.recycled == {1: 1}
        assert sim.group.restarts == {0: 1}


def test_all_at_once_go_one_at_a_time() -> None:
    """Each has a replacement of its own, and there is never more than one beside the size."""
    with simulated(6) as sim:
        sim.start()
        recycle(sim, *range(6))
        most = 0

        def count() -> None:
            nonlocal most
            most = max(most, sum(1 for _ in sim.group.roster.live()))

        follow(sim, 30, count)
        assert len(sim.find(Kind.RETIRED, reason="recycled")) == 6
        assert most == 7
        assert sim.fewest == 6


def test_one_that_never_gets_ready_holds_the_old_one_at_its_place() -> None:
    """And the others wait: memory or a dependency is short, so more of the same would not help."""
    slow = Behaviour()
    with simulated(3, behaviour=lambda _generation: slow) as sim:
        sim.start()
        slow.ready_time = None
        recycle(sim, 0, 1)
        follow(sim, 600)
        assert sim.fewest == 3
        assert not sim.find(Kind.RETIRED)
        assert sim.find(Kind.KILLED, slot=0)
        slow.ready_time = 0.1
        follow(sim, 120)
        assert len(sim.find(Kind.RETIRED, reason="recycled")) == 2
        assert sim.fewest == 3


def test_a_short_life_is_no_reason_to_back_off() -> None:
    """max_requests may be small and the load high: that is a plan, not a fault."""
    with simulated(2, behaviour=lambda _: Behaviour(recycles_after=1.0)) as sim:
        sim.start()
        follow(sim, 120)
        assert sum(sim.group.recycled.values()) > 150
        assert not sim.find(Kind.BACKED_OFF)
        assert sim.fewest == 2
        assert sim.group.roster.slot(0).deaths == 0


def test_a_long_life_that_ends_as_planned_forgives_earlier_deaths() -> None:
    with simulated(1) as sim:
        sim.start()
        for _ in range(3):
            sim.kernel.kill(sim.kernel.workers()[0].pid, signal.SIGKILL)
            sim.settle()
        assert sim.group.roster.slot(0).deaths == 3
        follow(sim, 60)
        recycle(sim, 0)
        sim.settle()
        assert sim.group.roster.slot(0).deaths == 0
        assert not sim.find(Kind.EXITED, asked=True, fault=True)


def test_who_dies_before_it_was_replaced_has_died() -> None:
    slow = Behaviour()
    with simulated(2, behaviour=lambda _generation: slow) as sim:
        sim.start()
        slow.ready_time = 5.0
        old = sim.kernel.workers()[0]
        recycle(sim, 0)
        sim.turn()
        sim.kernel.kill(old.pid, signal.SIGKILL)
        slow.ready_time = 0.1
        sim.settle()
        assert sim.find(Kind.EXITED, pid=old.pid, asked=False, fault=True)
        assert sim.group.restarts == {0: 1}
        assert sim.ready() == 2


def test_a_canary_that_leaves_as_planned_and_then_dies_fails_its_rollout() -> None:
    with simulated(2) as sim:
        sim.start()
        generation = sim.reload()
        assert generation is not None
        sim.until(lambda: sim.ready(generation) == 1)
        (canary,) = sim.kernel.workers(generation)
        canary.channel.send(Leaving("max_memory", recycle=True))
        sim.turn()
        sim.kernel.kill(canary.pid, signal.SIGKILL)
        sim.settle()
        assert sim.find(Kind.ROLLOUT_FAILED, generation=generation)
        assert sim.group.goal.stable != generation


@pytest.mark.parametrize("drain", [0.2, 20.0, None])
def test_hours_of_recycling_reloads_and_deaths_never_cost_capacity(drain: float | None) -> None:
    """What dies is missing until its successor is there; what is recycled never is."""
    how = Behaviour(recycles_after=45.0, drain_time=drain)
    with simulated(4, behaviour=lambda _generation: how) as sim:
        sim.start()
        killed = 0

        def follow_closely() -> None:
            roster = sim.group.roster
            gone = 1 if sim.kernel.time < until else 0
            assert sim.ready() >= 4 - gone
            draining = roster.count(Phase.DRAINING) + roster.count(Phase.KILLED)
            assert draining <= 4 + 1
            assert sum(1 for _ in roster.live()) <= 4 + 2, "a canary and a replacement"

        until = -inf
        for hour in range(2):
            sim.reload()
            follow(sim, 800, follow_closely)
            ready = [w for w in sim.group.roster.live() if w.phase is Phase.READY and w.pid]
            victim = ready[hour % len(ready)].pid
            assert victim is not None
            until = sim.kernel.time + 120
            sim.kernel.kill(victim, signal.SIGKILL)
            killed += 1
            follow(sim, 900, follow_closely)
        assert sum(sim.group.restarts.values()) <= killed
        assert sum(sim.group.recycled.values()) > 100
        assert sim.group.goal.stable == 3
        assert sim.group.goal.candidate is None
        assert not sim.find(Kind.TROUBLE)
