"""With a socket a slot, none is ever without somebody who serves it."""

import signal
from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clusterd.ipc.messages import Cover, Uncover
from clusterd.master import orders
from clusterd.master.cover import share
from tests.support.fake import Behaviour, Child
from tests.support.simulated import Simulation, config

SLOTS = st.sets(st.integers(0, 40))


@given(orphans=SLOTS, ready=SLOTS.filter(bool))
def test_orphans_are_shared_evenly_and_the_same_every_time(
    orphans: set[int], ready: set[int]
) -> None:
    shares = share(orphans, sorted(ready))
    assert shares.keys() == orphans
    loads = [list(shares.values()).count(slot) for slot in ready]
    assert max(loads) - min(loads) <= 1
    assert shares == share(sorted(orphans, reverse=True), sorted(ready))


@pytest.fixture
def sim() -> Iterator[Simulation]:
    """Four slots with a socket each, and code that takes a while to be ready."""
    whole = config(4)
    whole = replace(whole, listen=replace(whole.listen, balance="reuseport"))
    made = Simulation(whole, lambda _: Behaviour(ready_time=0.5))
    yield made
    made.close()


def covered(worker: Child) -> set[str]:
    """What a worker serves beside its own, by what it was told."""
    names: set[str] = set()
    for message in worker.heard:
        if isinstance(message, Cover):
            names |= set(message.listeners)
        elif isinstance(message, Uncover):
            names -= set(message.listeners)
    return {name.partition("#")[2] for name in names}


def served(sim: Simulation) -> list[str]:
    """The slots whose sockets are served, each as often as somebody does."""
    ready = [child for child in sim.kernel.workers() if child.ready]
    return sorted(slot for child in ready for slot in {str(child.slot)} | covered(child))


def test_all_ready_means_each_serves_its_own(sim: Simulation) -> None:
    sim.start()
    sim.settle()
    assert served(sim) == ["0", "1", "2", "3"]
    assert not any(covered(child) for child in sim.kernel.workers())


def test_the_socket_of_a_dead_worker_is_served_by_another_until_its_own_is_back(
    sim: Simulation,
) -> None:
    sim.start()
    sim.kernel.kill(sim.kernel.workers()[2].pid, signal.SIGKILL)
    sim.until(lambda: sim.ready() == 3)
    sim.kernel.pump()
    assert served(sim) == ["0", "1", "2", "3"]
    sim.settle()
    sim.kernel.pump()
    assert sim.ready() == 4
    assert served(sim) == ["0", "1", "2", "3"]


def test_when_two_are_missing_two_others_stand_in(sim: Simulation) -> None:
    sim.start()
    for child in sim.kernel.workers()[:2]:
        sim.kernel.kill(child.pid, signal.SIGKILL)
    sim.until(lambda: sim.ready() == 2)
    sim.kernel.pump()
    standing_in = [covered(child) for child in sim.kernel.workers() if child.ready]
    assert [len(names) for names in standing_in] == [1, 1]


def test_the_sockets_of_slots_that_were_scaled_away_stay_served(sim: Simulation) -> None:
    """Their queues may hold connections, and the kernel goes on filling them."""
    sim.start()
    sim.order(lambda: orders.scale(sim.group, 2, "test"))
    sim.settle()
    assert served(sim) == ["0", "1", "2", "3"]


def test_after_a_reload_the_new_workers_serve_all(sim: Simulation) -> None:
    sim.start()
    sim.reload()
    sim.settle()
    assert served(sim) == ["0", "1", "2", "3"]


def test_a_cover_that_did_not_get_through_is_sent_again(sim: Simulation) -> None:
    """The one who is to stand in does not read its channel just now, and it is full."""
    sim.start()
    group = sim.group
    victim, *others = sim.kernel.workers()
    channels = [group.handles[w.row].channel for w in group.roster.workers.values()]
    real = [(channel, channel.send) for channel in channels]
    for channel in channels:
        channel.send = lambda *_: False  # type: ignore[method-assign]
    sim.kernel.kill(victim.pid, signal.SIGKILL)
    sim.until(lambda: sim.ready() == 3)
    assert not any(covered(child) for child in others)
    for channel, send in real:
        channel.send = send  # type: ignore[method-assign]
    sim.order(lambda: None)
    sim.turn()
    sim.kernel.pump()
    assert served(sim) == ["0", "1", "2", "3"]
