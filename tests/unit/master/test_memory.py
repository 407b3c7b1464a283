"""Deaths for want of memory are named, with what to do about them."""

import signal
from dataclasses import replace

from clusterd.core.events import Kind
from clusterd.fleet.memory import LIMIT, REMEDIES
from clusterd.kernel.oom import Killings
from tests.support.fake import Behaviour
from tests.support.simulated import Simulation, simulated


def out_of_memory(sim: Simulation, pid: int) -> None:
    """The kernel counts, then it kills."""
    oom = sim.kernel.oom
    sim.kernel.oom = replace(oom, kills=oom.kills + 1, hits=oom.hits + 1)
    sim.kernel.kill(pid, signal.SIGKILL)


def test_a_worker_that_was_ended_for_want_of_memory_is_named_so() -> None:
    with simulated(2) as sim:
        sim.start()
        first, second = sim.kernel.workers()
        out_of_memory(sim, first.pid)
        sim.settle()
        sim.kernel.kill(second.pid, signal.SIGKILL)
        sim.settle()
        assert sim.find(Kind.EXITED, pid=first.pid, cause=f"SIGKILL: {LIMIT}")
        assert sim.find(Kind.EXITED, pid=first.pid, remedy=REMEDIES[LIMIT], oom=True, fault=True)
        (other,) = sim.find(Kind.EXITED, pid=second.pid, cause="SIGKILL")
        assert "remedy" not in other.fields
        assert sim.group.restarts == {0: 1, 1: 1}


def test_what_was_counted_before_we_started_explains_nothing() -> None:
    with simulated(1) as sim:
        assert sim.kernel.oom == Killings(3, 1, ours=True)
        sim.start()
        sim.kernel.kill(sim.kernel.workers()[0].pid, signal.SIGKILL)
        sim.settle()
        assert sim.find(Kind.EXITED, cause="SIGKILL")


def test_one_that_we_killed_ourselves_is_not_looked_up() -> None:
    how = Behaviour(drain_time=None)
    with simulated(2, behaviour=lambda _generation: how, graceful_timeout=1.0) as sim:
        sim.start()
        sim.kernel.oom = Killings(9, 9, ours=True)
        sim.reload()
        sim.settle()
        assert sim.find(Kind.KILLED)
        assert {event.fields["cause"] for event in sim.find(Kind.EXITED)} == {"SIGKILL"}


def test_a_zygote_whose_import_needs_too_much_says_so() -> None:
    with simulated(1, behaviour=lambda g: Behaviour(import_time=5.0 if g > 1 else 0.1)) as sim:
        sim.start()
        generation = sim.reload()
        assert generation is not None
        sim.until(lambda: len(sim.kernel.zygotes()) == 2)
        out_of_memory(sim, sim.kernel.zygotes()[1].pid)
        sim.settle()
        assert sim.find(Kind.ZYGOTE_EXITED, cause=f"SIGKILL: {LIMIT}")
        (failed,) = sim.find(Kind.ROLLOUT_FAILED, generation=generation)
        assert LIMIT in failed.fields["reason"]
        assert sim.ready() == 1
