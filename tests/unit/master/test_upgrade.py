"""The upgrade in place on a fake kernel: what goes well goes on, what does not changes nothing."""

import gc
import json
import logging
import os
import signal
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from clusterd.core.events import Kind
from clusterd.fleet.goal import Mode
from clusterd.master import orders
from clusterd.master.control import Control
from clusterd.master.upgrade import PATIENCE
from tests.support.fake import Behaviour, Tried
from tests.support.simulated import Simulation, simulated


class Caller:
    """A client of the control socket that asks one thing and hears what comes."""

    def __init__(self, path: str, **request: Any) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(path)
        self.sock.setblocking(False)
        self.sock.sendall(json.dumps(request).encode() + b"\n")
        self.text = b""

    def heard(self) -> list[dict[str, Any]]:
        try:
            while data := self.sock.recv(1 << 16):
                self.text += data
        except BlockingIOError:
            pass
        return [json.loads(line) for line in self.text.splitlines()]


class Upgrading(Simulation):
    """A cluster with a control socket and callers, all gone in the end."""

    path = ""
    callers: list[Caller]

    def call(self, **request: Any) -> Caller:
        self.callers.append(Caller(self.path, **request))
        self.turn()
        self.turn()
        return self.callers[-1]

    def upgrade(self) -> None:
        self.order(lambda: orders.upgrade(self.cluster, "test"))

    def over(self) -> bool:
        return bool(self.find(Kind.UPGRADED) or self.find(Kind.UPGRADE_FAILED))


@pytest.fixture
def sim(tmp_path: Path) -> Iterator[Upgrading]:
    with simulated(3) as made:
        made.__class__ = Upgrading
        assert isinstance(made, Upgrading)
        made.path, made.callers = str(tmp_path / "c.sock"), []
        made.start()
        made.loop.control = Control(made.cluster, made.path)
        yield made
        made.kernel.behaviour = lambda _: Behaviour()
        assert made.loop.control is not None
        made.loop.control.close()
        for caller in made.callers:
            caller.sock.close()
        assert list(tmp_path.iterdir()) == []


def test_all_goes_on_in_the_new_master(sim: Upgrading) -> None:
    before, last = sim.cluster, sim.cluster.journal.last
    workers = {w.pid: w.slot for w in sim.group.roster.workers.values()}
    spawned = len(sim.kernel.spawned)
    sim.upgrade()
    sim.until(sim.over)
    assert sim.cluster is not before
    assert {w.pid: w.slot for w in sim.group.roster.workers.values()} == workers
    assert [e.number for e in sim.events] == list(range(1, sim.cluster.journal.last + 1))
    kinds = [e.kind for e in sim.cluster.journal.since(last)]
    assert kinds == [Kind.UPGRADE_STARTED, Kind.UPGRADED]
    sim.settle()
    assert len(sim.kernel.spawned) == spawned
    child = sim.kernel.workers()[0]
    sim.kernel.end(child, -9)
    sim.settle()
    assert sim.ready() == 3
    assert sim.find(Kind.EXITED, pid=child.pid, cause="SIGKILL")
    orders.stop(sim.cluster)
    sim.until(lambda: sim.loop.over)


def test_who_waits_and_who_follows_are_answered_by_the_new_master(sim: Upgrading) -> None:
    follower = sim.call(command="events", follow=True)
    asker = sim.call(command="upgrade")
    half = sim.call(command="reload", wait=True)
    half.sock.sendall(b'{"command": "sta')
    second = sim.call(command="upgrade")
    assert second.heard()[0]["error"] == "an upgrade is under way"
    sim.until(sim.over)
    assert asker.heard() == [{"ok": True, "version": "0.1.0", "previous": "0.1.0"}]
    sim.settle()
    half.sock.sendall(b'tus"}\n')
    sim.turn()
    reloaded, status = half.heard()
    assert reloaded["ok"]
    assert reloaded["generation"] == 2
    assert status["state"] == "serving"
    numbers = [event["n"] for event in follower.heard()]
    assert numbers == list(range(1, sim.cluster.journal.last + 1))


@pytest.mark.parametrize(
    ("trial", "reason"),
    [
        (Tried(says="Traceback …\nImportError: no tea\n", code=1), "ImportError: no tea"),
        (Tried(says="", code=-11), "without a word: status -11"),
        (Tried(says="fit 9.9\n", code=1), "fit 9.9"),
        (Tried(says="hello\n"), "hello"),
        (Tried(time=None), f"more than {PATIENCE:g} s"),
        (Tried(says="x" * 60_000, code=1), "x" * 100),
    ],
)
def test_a_trial_that_fails_changes_nothing_and_says_why(
    sim: Upgrading, trial: Tried, reason: str
) -> None:
    sim.kernel.trial, before = trial, sim.cluster
    asker = sim.call(command="upgrade")
    sim.until(sim.over)
    (failed,) = sim.find(Kind.UPGRADE_FAILED)
    assert reason in failed.fields["reason"]
    assert asker.heard()[0]["error"] == failed.fields["reason"]
    assert sim.cluster is before
    sim.kernel.trial = Tried()
    sim.settle()
    assert not sim.kernel.trials
    sim.upgrade()
    sim.until(lambda: bool(sim.find(Kind.UPGRADED)))


def test_no_process_for_the_trial_and_no_exec_are_failures_like_others(sim: Upgrading) -> None:
    sim.kernel.spawn_errors = [OSError(11, "no process")]
    sim.upgrade()
    sim.until(sim.over)
    sim.kernel.become_errors = [OSError(7, "too long")]
    sim.upgrade()
    sim.until(lambda: len(sim.find(Kind.UPGRADE_FAILED)) == 2)
    first, second = (e.fields["reason"] for e in sim.find(Kind.UPGRADE_FAILED))
    assert "could not be tried: [Errno 11] no process" in first
    assert "could not be executed: [Errno 7] too long" in second
    sim.settle()
    assert sim.ready() == 3


@pytest.mark.parametrize(
    "moment", [Kind.ZYGOTE_SPAWNED, Kind.SPAWNED, Kind.CANARY_READIED, Kind.RETIRED]
)
def test_in_the_middle_of_a_reload_both_end_well(sim: Upgrading, moment: Kind) -> None:
    sim.reload()
    sim.until(lambda: bool(sim.find(moment, generation=2 if moment is not Kind.RETIRED else 1)))
    sim.upgrade()
    sim.until(sim.over)
    sim.settle()
    assert sim.find(Kind.UPGRADED)
    assert sim.find(Kind.ROLLOUT_FINISHED, generation=2)
    assert sim.ready(2) == 3
    assert sim.fewest is not None
    assert sim.fewest >= 2
    assert sim.group.goal.candidate is None


def test_a_reload_that_is_to_follow_the_one_under_way_still_does(sim: Upgrading) -> None:
    first = sim.reload()
    assert sim.reload() is None
    sim.upgrade()
    sim.until(sim.over)
    sim.settle()
    assert [e.fields["generation"] for e in sim.find(Kind.ROLLOUT_FINISHED)] == [first, 3]


def test_a_reload_that_begins_during_the_trial_is_carried(sim: Upgrading) -> None:
    """What is carried is the state at the end of the trial, not at its beginning."""
    sim.upgrade()
    sim.turn()
    sim.kernel.send(signal.SIGHUP)
    sim.until(sim.over)
    assert sim.group.goal.candidate == 2
    sim.settle()
    assert sim.find(Kind.ROLLOUT_FINISHED, generation=2)
    assert sim.ready(2) == 3


def test_a_stop_during_the_trial_wins(sim: Upgrading) -> None:
    sim.upgrade()
    sim.turn()
    (pid,) = sim.kernel.trials
    sim.kernel.send(signal.SIGTERM)
    sim.until(lambda: sim.loop.over)
    assert (pid, signal.SIGKILL) in sim.kernel.killed
    (event,) = sim.find(Kind.UPGRADE_FAILED)
    assert "stopping" in event.fields["reason"]
    assert event.fields["next"] == "the running version stops"
    assert event.level == logging.INFO, "it was asked for: no error"


def test_signals_that_come_as_we_go_are_obeyed_by_the_new_master(sim: Upgrading) -> None:
    """Those that were told already when all others were held back."""
    sim.kernel.trial = Tried(time=0.0)
    sim.upgrade()
    sim.turn()
    hold = sim.kernel.hold_signals

    def ring() -> list[int]:
        sim.kernel.send(signal.SIGHUP)
        return hold()

    sim.kernel.hold_signals = ring  # type: ignore[method-assign]
    sim.until(sim.over)
    sim.kernel.hold_signals = hold  # type: ignore[method-assign]
    assert not sim.find(Kind.SIGNALLED)
    sim.settle()
    assert sim.find(Kind.SIGNALLED, signal="SIGHUP")
    assert sim.ready(2) == 3


def test_a_worker_that_dies_meanwhile_is_reaped_and_replaced(sim: Upgrading) -> None:
    sim.kernel.trial = Tried(time=0.0)
    sim.upgrade()
    sim.turn()
    child = sim.kernel.workers()[1]
    hold = sim.kernel.hold_signals

    def die() -> list[int]:
        sim.kernel.end(child, -11)
        return hold()

    sim.kernel.hold_signals = die  # type: ignore[method-assign]
    sim.until(sim.over)
    sim.kernel.hold_signals = hold  # type: ignore[method-assign]
    sim.settle()
    assert sim.find(Kind.EXITED, pid=child.pid, cause="SIGSEGV")
    assert sim.ready() == 3


def test_back_off_totals_restarts_and_a_pause_are_remembered(sim: Upgrading) -> None:
    for _ in range(4):
        sim.kernel.end(sim.kernel.workers()[0], -9)
        sim.turn()
        sim.until(lambda: sim.ready() == 3)
    assert sim.find(Kind.BACKED_OFF)
    row = sim.group.board.row(next(iter(sim.group.roster.workers)))
    row[10] = 1234
    told = sim.group.all_totals()
    slots = {n: tally.deaths for n, tally in sim.group.roster.slots.items()}
    restarts = dict(sim.group.restarts)
    orders.pause(sim.group)
    sim.kernel.trial = Tried(time=0.0)
    sim.upgrade()
    sim.until(sim.over)
    assert sim.group.goal.mode is Mode.PAUSED
    assert {n: tally.deaths for n, tally in sim.group.roster.slots.items()} == slots
    assert sim.group.restarts == restarts
    assert sim.group.all_totals() == told


def test_no_descriptor_is_left_behind(sim: Upgrading) -> None:
    sim.call(command="events", follow=True)
    counts = []
    for number in range(3):
        sim.upgrade()
        sim.until(lambda wanted=number: len(sim.find(Kind.UPGRADED)) > wanted)  # type: ignore[misc]
        gc.collect()  # a mapping holds a descriptor of its own
        counts.append(len(os.listdir("/proc/self/fd")))
        assert len(set(sim.kernel.named)) == len(sim.kernel.named)
    assert counts[0] == counts[1] == counts[2]


def test_the_new_master_waits_for_memory_to_become_short_where_the_old_one_did(
    sim: Upgrading,
) -> None:
    sim.reload()
    sim.until(lambda: sim.group.pressure_event is not None)
    sim.upgrade()
    sim.until(sim.over)
    sim.until(lambda: sim.group.pressure_event is not None)
    sim.kernel.press("2 % of memory is left")
    sim.until(lambda: sim.group.goal.kept is None)
    assert sim.find(Kind.UPGRADED)


def test_it_is_refused_once_the_cluster_stops(sim: Upgrading) -> None:
    orders.stop(sim.cluster)
    sim.kernel.send(signal.SIGUSR2)
    sim.turn()
    assert "stopping" in sim.find(Kind.TROUBLE, signal="SIGUSR2")[0].fields["reason"]


@pytest.mark.skipif(os.geteuid() != 0, reason="others have no rights to lose")
def test_what_others_may_change_is_not_even_tried(
    sim: Upgrading, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The trial is a process with the master's rights."""
    open_to_all = tmp_path_factory.mktemp("open")
    open_to_all.chmod(0o777)
    monkeypatch.syspath_prepend(open_to_all)
    group = sim.group
    group.config = replace(group.config, limits=replace(group.config.limits, user="nobody"))
    sim.kernel.spawn_errors = [OSError(11, "no process")]
    sim.upgrade()
    sim.until(sim.over)
    (failed,) = sim.find(Kind.UPGRADE_FAILED)
    assert f"everybody may write to {open_to_all} " in failed.fields["reason"]
    assert "chmod o-w" in failed.fields["reason"]
    assert sim.kernel.spawn_errors, "a process was started"
    sim.kernel.spawn_errors.clear()
