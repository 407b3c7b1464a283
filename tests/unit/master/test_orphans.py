"""What the master does about processes that have outlived their worker, on a fake kernel."""

import signal
from collections.abc import Iterator

import pytest

from clusterd.core.events import Kind
from clusterd.kernel.descent import Orphan
from clusterd.master.orphans import GRACE, HOPELESS
from tests.support.fake import Behaviour
from tests.support.simulated import Simulation, simulated


@pytest.fixture
def two() -> Iterator[Simulation]:
    with simulated(workers=2) as simulation:
        yield simulation.start()


def orphaned(sim: Simulation, pid: int, ancestor: int, same_session: bool = True) -> Orphan:
    """Our kernel gives us a child of a process that has ended."""
    one = Orphan(pid, 7, "sleep", (ancestor, 5), same_session)
    sim.kernel.strangers[pid] = one
    return one


def lose_worker(sim: Simulation) -> int:
    """Kill a worker; its pid."""
    child = sim.kernel.workers()[0]
    sim.kernel.end(child, -9)
    return child.pid


def sent(sim: Simulation, pid: int) -> list[int]:
    return [number for one, number in sim.kernel.killed if one == pid]


def test_an_orphan_is_terminated_and_named(two: Simulation) -> None:
    pid = lose_worker(two)
    orphaned(two, 9001, pid)
    two.settle()
    assert sent(two, 9001) == [signal.SIGTERM]
    (event,) = two.find(Kind.ORPHANS_ENDED)
    assert event.fields["processes"] == ["sleep (pid 9001)"]
    assert event.fields["pid"] == pid
    assert "slot" in event.fields
    assert two.cluster.orphans.over


def test_a_look_that_fails_comes_again(two: Simulation) -> None:
    pid = lose_worker(two)
    orphaned(two, 9001, pid)
    two.kernel.blind = 1
    two.until(lambda: sent(two, 9001) == [signal.SIGTERM])


def test_the_children_of_an_orphan_follow_it(two: Simulation) -> None:
    pid = lose_worker(two)
    orphaned(two, 9001, pid)
    two.turn()
    orphaned(two, 9002, pid)  # it was given to us when its parent ended
    two.settle()
    assert sent(two, 9002) == [signal.SIGTERM]


def test_one_that_ignores_that_is_killed(two: Simulation) -> None:
    pid = lose_worker(two)
    two.kernel.stubborn.add(9001)
    orphaned(two, 9001, pid)
    two.turn()
    before = two.kernel.time
    two.until(lambda: bool(two.find(Kind.ORPHANS_KILLED)))
    assert two.kernel.time == pytest.approx(before + GRACE)
    two.settle()
    assert sent(two, 9001) == [signal.SIGTERM, signal.SIGKILL]
    assert two.cluster.orphans.over


def test_one_with_a_session_of_its_own_is_left_alone_and_reported_once(two: Simulation) -> None:
    pid = lose_worker(two)
    orphaned(two, 9001, pid, same_session=False)
    two.settle()
    lose_worker(two)
    two.settle()
    assert sent(two, 9001) == []
    (event,) = two.find(Kind.ORPHANS_SPARED)
    assert event.fields["processes"] == ["sleep (pid 9001)"]


def test_those_left_alone_are_forgotten_once_they_have_ended(two: Simulation) -> None:
    pid = lose_worker(two)
    orphaned(two, 9001, pid, same_session=False)
    two.settle()
    assert two.cluster.orphans.spared
    del two.kernel.strangers[9001]
    lose_worker(two)
    two.settle()
    assert not two.cluster.orphans.spared


def test_what_a_zygote_has_started_stays_while_its_workers_live(two: Simulation) -> None:
    """As multiprocessing's resource tracker, which all forked workers share."""
    zygote = two.kernel.zygotes()[0]
    two.kernel.end(zygote, -9)
    orphaned(two, 9001, zygote.pid)
    two.settle()
    assert sent(two, 9001) == []
    two.kernel.send(signal.SIGTERM)
    two.until(lambda: two.loop.over)
    assert sent(two, 9001) == [signal.SIGTERM]


def test_a_stop_waits_for_orphans_and_no_longer(two: Simulation) -> None:
    """One that does not even die of SIGKILL, as in a dead file server, is given up."""
    pid = lose_worker(two)
    two.kernel.stubborn.add(9001)
    orphaned(two, 9001, pid)
    two.turn()
    two.kernel.send(signal.SIGTERM)
    two.until(lambda: bool(two.find(Kind.ORPHANS_KILLED)))
    assert not two.loop.over
    orphaned(two, 9001, pid)
    two.kernel.dead = [one for one in two.kernel.dead if one.pid != 9001]
    killed_at = two.kernel.time
    two.until(lambda: two.loop.over)
    assert two.kernel.time <= killed_at + HOPELESS + 1
    assert two.find(Kind.ORPHANS_SPARED, reason="it cannot be killed")


def test_a_quick_stop_kills_them(two: Simulation) -> None:
    pid = lose_worker(two)
    two.kernel.stubborn.add(9001)
    orphaned(two, 9001, pid)
    two.kernel.send(signal.SIGQUIT)
    before = two.kernel.time
    two.until(lambda: two.loop.over)
    assert sent(two, 9001)[-1] == signal.SIGKILL
    assert two.kernel.time - before < GRACE


def test_a_quick_stop_kills_those_that_a_stop_already_waits_for(two: Simulation) -> None:
    pid = lose_worker(two)
    two.kernel.stubborn.add(9001)
    orphaned(two, 9001, pid)
    two.kernel.send(signal.SIGTERM)
    two.until(lambda: all(group.over for group in two.cluster.groups.values()))
    assert sent(two, 9001) == [signal.SIGTERM]
    before = two.kernel.time
    two.kernel.send(signal.SIGQUIT)
    two.turn()
    assert sent(two, 9001) == [signal.SIGTERM, signal.SIGKILL]
    assert two.kernel.time == before


def test_a_newborn_of_a_zygote_that_died_is_not_taken_for_an_orphan() -> None:
    """It has its zygote's mark until it has said hello."""
    with simulated(workers=1, behaviour=lambda _: Behaviour(deaf_zygote=True)) as two:
        two.until(lambda: bool(two.kernel.zygotes() and two.group.roster.workers))
        zygote = two.kernel.zygotes()[0]
        orphaned(two, 9001, zygote.pid)
        with zygote.channel.sock.dup():  # as the newborn has a copy of its order
            two.kernel.end(zygote, -9)
            two.turn()
            assert sent(two, 9001) == []
            assert not two.cluster.orphans.over
