"""Zygotes that are started before they are needed: the first, before the master is there, and in
development the next. They may be dead before they are taken."""

import errno
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from clusterd.config.settings import Config
from clusterd.core.errors import ConfigError
from clusterd.core.events import Kind
from clusterd.core.exits import Exit
from clusterd.kernel.child import Ahead
from clusterd.kernel.real import Death
from clusterd.master import absorb
from tests.support.fake import Behaviour
from tests.support.simulated import Simulation, config, simulated

superuser = pytest.mark.skipif(os.geteuid() != 0, reason="only root can start another user")
GONE = 99  # a pid that the fake kernel does not give out


def test_a_zygote_that_died_before_it_was_taken_is_not_waited_for() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    theirs.close()
    with simulated(2) as sim:
        sim.cluster.ahead = Ahead(GONE, ours)
        absorb.died(sim.cluster, Death(GONE, 1))
        sim.start()
        assert sim.ready() == 2
        assert all(zygote.pid != GONE for zygote in sim.group.roster.zygotes)
    assert ours.fileno() == -1


def of_user(user: str, whole: Config) -> Config:
    return replace(whole, limits=replace(whole.limits, user=user))


@contextmanager
def developing(behaviour: Callable[[int], Behaviour] | None = None) -> Iterator[Simulation]:
    whole = config(1, min_ready=0.0)
    whole = replace(whole, dev=replace(whole.dev, dev=True, reload=True))
    sim = Simulation(whole, behaviour)
    try:
        yield sim
    finally:
        sim.close()


def test_only_in_development_one_waits_for_the_next_reload() -> None:
    with simulated(1, min_ready=0.0) as sim:
        sim.start()
        sim.reload()
        sim.settle()
        assert sim.cluster.ahead is None
        assert "ahead" not in sim.kernel.spawned


def test_each_reload_takes_the_one_that_waits_and_then_there_is_another() -> None:
    with developing() as sim:
        sim.start()
        taken = []
        for _ in range(3):
            sim.settle()
            assert sim.cluster.ahead is not None
            taken.append(sim.cluster.ahead.pid)
            sim.reload()
            sim.settle()
        spawned = [event.fields["pid"] for event in sim.find(Kind.ZYGOTE_SPAWNED)]
        assert spawned[1:] == taken
        assert sim.kernel.spawned == ["zygote", "ahead", "ahead", "ahead", "ahead"]


def test_where_there_is_no_process_for_it_the_reload_starts_its_own() -> None:
    with developing() as sim:
        sim.until(lambda: sim.group.goal.stable in sim.group.fingerprints)
        sim.kernel.spawn_errors = [OSError(errno.EAGAIN, "none")]  # workers are forked elsewhere
        sim.start()
        sim.settle()
        assert sim.cluster.ahead is None
        sim.reload()
        sim.settle()
        assert sim.kernel.spawned == ["zygote", "zygote", "ahead"]
        assert sim.find(Kind.ROLLOUT_FINISHED)
        assert sim.cluster.ahead is not None


def test_what_is_saved_while_an_import_is_under_way_supersedes_it() -> None:
    hanging = Behaviour(import_time=1e6)
    with developing(lambda generation: hanging if generation == 2 else Behaviour()) as sim:
        sim.start()
        assert sim.reload() == 2
        sim.until(lambda: len(sim.find(Kind.ZYGOTE_SPAWNED)) == 2)
        began = sim.kernel.time
        assert sim.reload() is None
        sim.until(lambda: bool(sim.find(Kind.ROLLOUT_FINISHED)))
        [failed] = sim.find(Kind.ROLLOUT_FAILED)
        assert (failed.fields["generation"], sim.group.goal.stable) == (2, 3)
        assert "superseded" in failed.fields["reason"]
        assert sim.kernel.time - began < 10


def test_elsewhere_a_reload_waits_for_the_one_before() -> None:
    slow = Behaviour(import_time=30.0)
    with simulated(1, lambda generation: slow if generation == 2 else Behaviour()) as sim:
        sim.start()
        sim.reload()
        sim.until(lambda: len(sim.find(Kind.ZYGOTE_SPAWNED)) == 2)
        sim.reload()
        sim.until(lambda: len(sim.find(Kind.ROLLOUT_FINISHED)) == 2)
        assert not sim.find(Kind.ROLLOUT_FAILED)


@superuser
def test_a_zygote_that_waits_with_other_limits_is_not_taken() -> None:
    """It is another user already, and cannot take more on."""
    with developing() as sim:
        sim.config = sim.group.config = of_user("nobody", sim.config)
        sim.group.configs[1] = sim.config
        sim.start()
        assert sim.cluster.ahead is not None
        waiting = sim.cluster.ahead
        assert waiting.limits == sim.config.limits
        sim.config = of_user("daemon", sim.config)
        sim.reload()
        sim.settle()
        [_, started] = sim.find(Kind.ZYGOTE_SPAWNED)
        assert started.fields["pid"] != waiting.pid
        assert sim.kernel.limited[started.fields["pid"]] == sim.config.limits


@superuser
def test_each_process_of_ours_is_started_with_the_limits_of_its_group() -> None:
    whole = of_user("nobody", config(2))
    whole = replace(whole, app=replace(whole.app, preload="never"))
    sim = Simulation(whole)
    try:
        sim.start()
        assert sim.kernel.spawned == ["zygote", "worker", "worker"]
        assert list(sim.kernel.limited.values()) == [whole.limits] * 3
    finally:
        sim.close()


@superuser
def test_a_zygote_that_cannot_take_its_limits_on_ends_a_start_as_a_wrong_setting() -> None:
    sim = Simulation(of_user("nobody", config(1)))
    sim.kernel.closed_to_user = ConfigError("user: it may not", "let it")
    try:
        sim.until(lambda: sim.loop.over)
        assert sim.cluster.exit is Exit.CONFIG
        (gave_up,) = sim.find(Kind.GAVE_UP)
        assert gave_up.fields["reason"] == "limits failed: user: it may not"
        assert gave_up.fields["remedy"] == "let it"
    finally:
        sim.close()
