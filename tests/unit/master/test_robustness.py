"""Once it serves, the master does not die: what goes wrong is journaled and tried again."""

import errno
import os
import signal
from dataclasses import replace

import pytest

from clusterd.core.errors import ConfigError
from clusterd.core.events import Event, Kind
from clusterd.fleet.lifecycle import Phase
from clusterd.fleet.plan import Spawn, StartZygote
from clusterd.ipc import scoreboard
from clusterd.ipc.messages import Leaving
from clusterd.kernel.real import Source
from clusterd.master import orders, perform, reload
from tests.support.fake import Behaviour
from tests.support.simulated import Simulation, simulated


def endure(sim: Simulation) -> Event:
    """Turns until something was lived through; the event that tells of it."""
    for _ in range(100):
        sim.loop.turn()
        if sim.cluster.fault is not None:
            sim.cluster.fault = None
            return sim.find(Kind.TROUBLE, fault=True)[-1]
    raise AssertionError(f"no trouble; saw {sim.kinds()}")


def test_a_plan_that_does_not_come_to_rest_is_journaled_and_tried_again_in_a_second(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with simulated(1) as sim:
        monkeypatch.setitem(perform.TABLE, StartZygote, lambda _cluster, _action: None)
        began = sim.kernel.time

        def healed(seconds: float) -> None:
            sim.kernel.time += seconds
            monkeypatch.undo()
            sim.kernel.send(signal.SIGTERM)

        sim.kernel.rest = healed  # type: ignore[method-assign]
        assert sim.loop.run() == 0
        assert "does not come to rest" in sim.find(Kind.TROUBLE)[0].fields["reason"]
        assert sim.kernel.time == began + 1.0


def test_one_action_that_fails_does_not_keep_the_others_from_being_done(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with simulated(3, parallel_start=True) as sim:
        real = perform.TABLE[Spawn]

        def fails_once(cluster: object, action: object) -> None:
            monkeypatch.setitem(perform.TABLE, Spawn, real)
            raise OSError(errno.ENOMEM, "no memory")

        monkeypatch.setitem(perform.TABLE, Spawn, fails_once)
        assert "no memory" in endure(sim).fields["reason"]
        assert sim.group.roster.count(Phase.BOOTING) == 3, "the others, and this one again"


def test_a_signal_that_cannot_be_obeyed_does_not_lose_the_one_after_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with simulated(1) as sim:
        sim.start()

        def broken(*_: object, **__: object) -> None:
            raise ZeroDivisionError("a bug of ours")

        monkeypatch.setattr(orders, "scale", broken)
        sim.kernel.send(signal.SIGTTIN)
        sim.kernel.send(signal.SIGTERM)
        trouble = endure(sim)
        assert "ZeroDivisionError" in trouble.fields["traceback"]
        sim.until(lambda: sim.loop.over)


def test_a_death_is_counted_though_the_last_words_were_noise() -> None:
    """A reaped pid that stayed in the roster could be signalled when it is another process's."""
    with simulated(1) as sim:
        sim.start()
        worker = sim.kernel.workers()[0]
        worker.channel.sock.send(b"noise")
        sim.kernel.kill(worker.pid, signal.SIGKILL)
        sim.until(lambda: bool(sim.find(Kind.EXITED, pid=worker.pid)))
        assert sim.group.roster.by_pid(worker.pid) is None


def test_a_death_is_counted_though_its_channel_cannot_be_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with simulated(1) as sim:
        sim.start()
        (worker,) = sim.kernel.workers()

        def broken(*_: object, **__: object) -> None:
            raise OSError(errno.ENOMEM, "no memory")

        channel = sim.group.handles[worker.row].channel
        monkeypatch.setattr(channel, "hear", broken)
        sim.kernel.kill(worker.pid, signal.SIGKILL)
        endure(sim)
        assert sim.group.roster.by_pid(worker.pid) is None


def test_a_worker_whose_time_is_up_in_the_turn_of_a_stop_is_just_killed() -> None:
    """The plan says kill and retire at once; it never said hello, so killing it forgets it."""
    with simulated(1, lambda _: Behaviour(deaf_zygote=True)) as sim:
        sim.until(lambda: sim.group.roster.count(Phase.BOOTING) == 1)
        sim.kernel.time += 11.0
        sim.kernel.send(signal.SIGTERM)
        sim.until(lambda: sim.loop.over)
        assert not sim.find(Kind.RETIRED)


def test_when_all_rows_are_taken_the_rest_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    with simulated(2) as sim:
        monkeypatch.setattr("clusterd.master.group.ROWS", 1)
        sim.until(lambda: bool(sim.find(Kind.SPAWN_FAILED)))
        assert "rows" in sim.find(Kind.SPAWN_FAILED)[0].fields["reason"]
        monkeypatch.setattr("clusterd.master.group.ROWS", scoreboard.ROWS)
        sim.settle()
        assert sim.ready() == 2


def test_a_canary_without_a_row_fails_its_rollout(monkeypatch: pytest.MonkeyPatch) -> None:
    with simulated(2) as sim:
        sim.start()
        monkeypatch.setattr("clusterd.master.group.ROWS", 2)
        sim.reload()
        sim.settle()
        assert "rows" in sim.find(Kind.ROLLOUT_FAILED)[0].fields["reason"]
        assert sim.ready(1) == 2


def test_a_rollout_with_nobody_to_swap_is_finished_in_the_turn_in_which_it_is_proven() -> None:
    """After a pause there is no old worker whose leaving would wake the master again."""
    with simulated(1) as sim:
        sim.start()
        sim.order(lambda: orders.pause(sim.group))
        sim.settle()
        sim.watching = False
        sim.reload()
        sim.settle()
        assert sim.find(Kind.ROLLOUT_FINISHED, generation=2)
        assert sim.group.goal.candidate is None


def test_a_canary_that_is_killed_for_lateness_fails_at_once_and_says_why() -> None:
    how = {1: Behaviour(), 2: Behaviour(ready_time=None)}
    with simulated(1, lambda g: how[g], startup_timeout=5.0) as sim:
        sim.start()
        sim.reload()
        sim.settle()
        assert "startup timeout" in sim.find(Kind.ROLLOUT_FAILED)[0].fields["reason"]
        assert len(sim.find(Kind.SPAWNED, generation=2)) == 1, "no second canary"


def test_a_zygote_that_closed_its_channel_and_stays_is_replaced() -> None:
    """An import that closes every descriptor: it would never fork again, and nobody would know."""
    with simulated(1) as sim:
        sim.start()
        (zygote,) = sim.kernel.zygotes()
        kept = os.dup(zygote.channel.fileno())
        zygote.channel.sock.shutdown(2)
        zygote.behaviour = replace(zygote.behaviour, deaf_zygote=True)
        sim.until(lambda: (zygote.pid, signal.SIGKILL) in sim.kernel.killed)
        os.close(kept)
        sim.settle()
        assert [z.pid for z in sim.group.roster.zygotes] != [zygote.pid]
        sim.kernel.kill(sim.kernel.workers()[0].pid, signal.SIGKILL)
        sim.settle()
        assert sim.ready() == 1


def test_a_pair_that_cannot_be_made_leaves_no_pipe_behind() -> None:
    with simulated(1) as sim:
        sim.start()
        before = len(os.listdir("/proc/self/fd"))

        def no_pair() -> tuple[object, object]:
            raise OSError(errno.EMFILE, "too many open files")

        pair, sim.kernel.pair = sim.kernel.pair, no_pair  # type: ignore[method-assign,assignment]
        for _ in range(3):
            perform.spawn(sim.group, Spawn(0, 1))
        sim.kernel.pair = pair  # type: ignore[method-assign]
        assert len(os.listdir("/proc/self/fd")) == before


def test_there_is_no_way_back_to_code_that_a_rebuilt_zygote_no_longer_has() -> None:
    """It died during a rollout, and what its successor imported is already something else."""
    with simulated(1, lambda g: Behaviour(import_time=5.0 if g == 2 else 0.5)) as sim:
        sim.start()
        sim.reload()
        sim.until(lambda: len(sim.kernel.zygotes()) == 2)
        sim.kernel.behaviour = lambda _: Behaviour(fingerprint="other")
        sim.kernel.kill(sim.kernel.zygotes()[0].pid, signal.SIGKILL)
        sim.settle()
        assert sim.group.goal.kept == 1
        with pytest.raises(ConfigError, match="no previous generation"):
            reload.rollback(sim.group)


@pytest.mark.parametrize("failing", ["zygote", "worker", "dump"])
def test_what_cannot_be_waited_for_is_started_again(failing: str) -> None:
    """epoll_ctl(2) may refuse: too many watches, or no memory."""
    with simulated(2) as sim:
        watch, left = sim.kernel.watch, [3]

        def refuses(source: Source, key: object, write: bool = False) -> None:
            if isinstance(key, tuple) and key[0] == failing and left[0]:
                left[0] -= 1
                raise OSError(errno.ENOSPC, "no room")
            watch(source, key, write)

        sim.kernel.watch = refuses  # type: ignore[method-assign,assignment]
        sim.group.roster.ever_ready = True  # or three such in a row are the end of a first start
        sim.start()
        sim.settle()
        assert len(sim.find(Kind.SPAWN_FAILED)) == 3
        assert sim.ready() == 2


def test_workers_that_want_to_leave_as_soon_as_they_are_ready_are_backed_off() -> None:
    """Each serves on until it is replaced, so nothing is missing; but starting them costs."""
    with simulated(1) as sim:
        sim.start()
        for _ in range(8):
            sim.kernel.workers()[-1].channel.send(Leaving("too much memory"))
            sim.settle()
        assert len(sim.find(Kind.BACKED_OFF)) == 7, "the first costs nothing"
        assert sim.find(Kind.BACKED_OFF)[-1].fields["retry_in"] > 5
        assert sim.fewest == 1
