"""Rollouts on a fake kernel: new code comes in, or it leaves and the old code never noticed."""

import signal
from collections.abc import Callable, Sized
from dataclasses import replace
from typing import Any

import pytest

from clusterd.config.cpus import available_cpus
from clusterd.core.errors import ConfigError
from clusterd.core.events import Kind
from clusterd.fleet.lifecycle import Phase
from clusterd.master import commands, orders, reload
from tests.support.fake import Behaviour
from tests.support.simulated import Simulation, simulated

BROKEN = {
    "import error": Behaviour(import_error="oops"),
    "dies while importing": Behaviour(import_dies=True),
    "import hangs": Behaviour(import_time=1e9),
    "never ready": Behaviour(ready_time=None),
    "fails to start": Behaviour(ready_time=None, dies_after=0.1),
    "dies right after ready": Behaviour(dies_after=0.5),
    "cannot be forked": Behaviour(spawn_error="no memory"),
}


def from_second(how: Behaviour) -> Callable[[int], Behaviour]:
    """The first generation is good, the later ones are not."""
    return lambda generation: how if generation > 1 else Behaviour()


def test_a_reload_swaps_slot_by_slot_and_never_has_fewer_ready() -> None:
    with simulated(4) as sim:
        sim.start()
        most = 0

        def done() -> bool:
            nonlocal most
            live = sum(w.live for w in sim.group.roster.workers.values())
            most = max(most, live)
            return bool(sim.find(Kind.ROLLOUT_FINISHED, generation=2))

        sim.reload()
        sim.until(done)
        sim.settle()
        assert sim.fewest == 4
        assert most == 5, "one more than the size, and no more"
        assert sim.ready(2) == 4
        assert sim.group.goal.kept == 1


def test_the_canary_must_live_through_min_ready_before_anyone_is_retired() -> None:
    with simulated(2, min_ready=7.0) as sim:
        sim.start()
        sim.reload()
        sim.until(lambda: bool(sim.find(Kind.CANARY_READIED)))
        ready_at = sim.kernel.time
        sim.until(lambda: bool(sim.find(Kind.RETIRED)))
        assert sim.kernel.time == pytest.approx(ready_at + 7.0)


@pytest.mark.parametrize("name", BROKEN)
def test_broken_code_leaves_and_the_old_generation_never_noticed(name: str) -> None:
    with simulated(3, from_second(BROKEN[name])) as sim:
        sim.start()
        old = {worker.pid for worker in sim.kernel.workers()}
        sim.reload()
        sim.settle()
        (event,) = sim.find(Kind.ROLLOUT_FAILED)
        assert event.fields["generation"] == 2
        assert event.fields["serving"] == 1
        assert event.fields["reason"]
        assert sim.fewest == 3
        assert {worker.pid for worker in sim.kernel.workers()} == old
        assert [z.generation for z in sim.group.roster.zygotes] == [1]


def test_the_traceback_of_a_failed_import_is_in_the_verdict() -> None:
    with simulated(1, from_second(BROKEN["import error"])) as sim:
        sim.start()
        sim.reload()
        sim.settle()
        assert sim.find(Kind.ROLLOUT_FAILED)[0].fields["traceback"].startswith("Traceback")


def test_a_new_worker_that_dies_half_way_turns_the_whole_rollout_back() -> None:
    with simulated(4) as sim:
        sim.start()
        sim.reload()
        sim.until(lambda: sim.ready(2) == 3)
        sim.kernel.kill(sim.kernel.workers(2)[0].pid, signal.SIGKILL)
        sim.settle()
        assert sim.find(Kind.ROLLOUT_FAILED, generation=2)
        assert sim.ready(1) == 4
        assert sim.fewest is not None
        assert sim.fewest >= 3, "only the one that was killed is missing meanwhile"


def test_an_old_worker_that_dies_while_the_canary_is_tried_is_replaced_by_old_code() -> None:
    with simulated(2, lambda g: Behaviour(import_time=20.0 if g == 2 else 0.1)) as sim:
        sim.start()
        sim.reload()
        sim.until(lambda: len(sim.kernel.zygotes()) == 2)
        sim.kernel.kill(sim.kernel.workers(1)[0].pid, signal.SIGKILL)
        sim.until(lambda: sim.ready(1) == 2)
        assert not sim.find(Kind.ROLLOUT_FAILED)
        sim.settle()
        assert sim.ready(2) == 2


def test_term_in_the_middle_of_a_reload_stops_at_once() -> None:
    with simulated(4, lambda _: Behaviour(drain_time=0.2)) as sim:
        sim.start()
        sim.reload()
        sim.until(lambda: sim.ready(2) == 2)
        began = sim.kernel.time
        sim.kernel.send(signal.SIGTERM)
        sim.until(lambda: sim.loop.over)
        assert sim.kernel.time - began < 1.0


def test_a_second_hup_follows_the_first_and_many_are_one() -> None:
    with simulated(2) as sim:
        sim.start()
        sim.reload()
        sim.until(lambda: sim.ready(2) == 1)
        for _ in range(5):
            sim.kernel.send(signal.SIGHUP)
            sim.turn()
        sim.settle()
        assert sim.ready(3) == 2
        assert not sim.find(Kind.ROLLOUT_STARTED, generation=4)
        assert sim.fewest == 2


def test_scaling_in_the_middle_of_a_reload_ends_at_the_new_size_on_the_new_code() -> None:
    with simulated(2) as sim:
        sim.start()
        sim.reload()
        sim.until(lambda: sim.ready(2) == 1)
        sim.order(lambda: orders.scale(sim.group, 4, "test"))
        sim.settle()
        assert sim.ready(2) == 4


def test_draining_workers_never_outnumber_the_working() -> None:
    with simulated(2, lambda _: Behaviour(drain_time=None), graceful_timeout=300.0) as sim:
        sim.start()
        for _ in range(3):
            sim.reload()

            def done() -> bool:
                drains = sim.group.roster.count(Phase.DRAINING)
                assert drains <= sim.ready()
                return sim.group.goal.candidate is None

            sim.until(done)
        assert sim.ready(4) == 2


def test_rollback_brings_the_kept_generation_back_without_an_import() -> None:
    with simulated(2) as sim:
        sim.start()
        sim.reload()
        sim.settle()
        imports = len(sim.find(Kind.ZYGOTE_READIED))
        sim.order(lambda: reload.rollback(sim.group))
        sim.settle()
        assert sim.ready(1) == 2
        assert sim.group.goal.kept == 2
        assert len(sim.find(Kind.ZYGOTE_READIED)) == imports
        assert sim.fewest == 2


def test_there_is_nothing_to_roll_back_to_at_first() -> None:
    with simulated(1) as sim:
        sim.start()
        with pytest.raises(ConfigError, match="no previous generation"):
            reload.rollback(sim.group)


def test_a_rollback_does_not_wait_and_swaps_all_slots_at_once() -> None:
    """The old code has served before: no canary, and never fewer ready than wanted."""
    with simulated(4, min_ready=7.0) as sim:
        sim.start()
        sim.reload()
        sim.settle()
        sim.fewest = None
        began, last = sim.kernel.time, sim.cluster.journal.last
        sim.order(lambda: reload.rollback(sim.group))
        sim.until(lambda: bool(sim.find(Kind.ROLLOUT_FINISHED, generation=1)))
        assert sim.kernel.time - began == pytest.approx(0.2), "twice the time to become ready"
        assert sim.fewest == 4
        ready = [e.time for e in sim.find(Kind.READIED, generation=1) if e.number > last]
        assert len(ready) == 4
        assert len(set(ready)) == 2, "the first alone, then the others together"


def test_a_rollback_that_fails_leaves_the_new_code_serving() -> None:
    with simulated(2) as sim:
        sim.start()
        sim.reload()
        sim.settle()
        for zygote in sim.kernel.zygotes():
            if zygote.generation == 1:
                zygote.behaviour = Behaviour(ready_time=None, dies_after=0.1)
        sim.order(lambda: reload.rollback(sim.group))
        sim.settle()
        assert sim.find(Kind.ROLLOUT_FAILED, generation=1)
        assert sim.ready(2) == 2
        assert sim.fewest == 2
        sim.reload()
        sim.settle()
        assert sim.ready(3) == 2


UNSAFE = Behaviour(unsafe="the thread 'x'")


def test_code_that_each_worker_imports_cannot_be_rolled_back_to_and_the_reload_says_so() -> None:
    with simulated(2, lambda _: UNSAFE) as sim:
        sim.start()
        sim.reload()
        sim.settle()
        (started,) = sim.find(Kind.ROLLOUT_STARTED)
        assert "the thread 'x'" in started.fields["rollback"]
        assert sim.group.goal.kept is None
        assert [zygote.generation for zygote in sim.kernel.zygotes()] == [2]
        with pytest.raises(ConfigError, match="each worker imports") as refused:
            reload.rollback(sim.group)
        assert "put the old code back" in refused.value.remedy
        assert sim.ready(2) == 2


def test_code_that_was_forked_can_be_rolled_back_to_whatever_came_after_it() -> None:
    with simulated(2, from_second(UNSAFE)) as sim:
        sim.start()
        sim.reload()
        sim.settle()
        assert "rollback" not in sim.find(Kind.ROLLOUT_STARTED)[0].fields
        sim.order(lambda: reload.rollback(sim.group))
        sim.settle()
        assert sim.ready(1) == 2


def test_a_reload_replies_that_there_will_be_no_rollback() -> None:
    with simulated(1, lambda _: UNSAFE) as sim:
        sim.start()
        ask = {"command": "reload", "wait": True}
        waiter = sim.order(lambda: commands.answer(sim.cluster, ask))
        replies: list[Any] = []
        sim.cluster.journal.listen(
            lambda event: replies.append(waiter(event) if callable(waiter) else None)
        )
        sim.settle()
        (reply,) = filter(None, replies)
        assert "the thread 'x'" in reply["no_rollback"]["web"]


def test_short_memory_lets_the_kept_generation_go_early() -> None:
    with simulated(1) as sim:
        sim.start()
        sim.reload()
        sim.settle()
        sim.kernel.short_of_memory = "2 % of memory is left"
        sim.kernel.time += 30
        sim.order(lambda: orders.scale(sim.group, 2, "test"))
        sim.settle()
        (trouble,) = sim.find(Kind.TROUBLE)
        assert "no longer kept" in trouble.fields["next"]
        assert [zygote.generation for zygote in sim.kernel.zygotes()] == [2]
        with pytest.raises(ConfigError, match="2 % of memory is left"):
            reload.rollback(sim.group)


def test_memory_that_becomes_short_wakes_a_master_that_sleeps() -> None:
    with simulated(1, rollback_keep=600.0) as sim:
        sim.start()
        sim.reload()
        sim.settle()
        began = sim.kernel.time
        sim.kernel.press("2 % of memory is left")
        sim.until(lambda: sim.group.goal.kept is None)
        assert sim.kernel.time == began
        (trouble,) = sim.find(Kind.TROUBLE)
        assert "no longer kept" in trouble.fields["next"]
        assert sim.group.pressure_event is None  # nothing is left that could be let go
        assert not any(key == ("pressure", "web") for _, key, *_ in sim.kernel.watched.values())


def test_a_pressure_event_that_is_broken_does_not_keep_the_master_awake() -> None:
    """Its cgroup is gone: it would be readable for ever."""
    with simulated(1, rollback_keep=600.0) as sim:
        sim.start()
        sim.reload()
        sim.settle()
        sim.kernel.triggers[-1].close()
        sim.until(lambda: sim.group.pressure_event is None)
        assert sim.group.goal.kept == 1


def test_what_is_kept_of_a_generation_is_gone_with_it() -> None:
    """Settings, and certificates with their keys."""
    with simulated(1, rollback_keep=600.0) as sim:
        sim.start()
        sim.reload()
        sim.settle()
        assert set(sim.group.configs) == {1, 2}
        sim.until(lambda: sim.group.goal.kept is None)
        assert set(sim.group.configs) == {2}


def test_what_a_draining_worker_needed_is_gone_with_it() -> None:
    how = Behaviour(drain_time=100.0)
    with simulated(1, lambda _: how, rollback_keep=0.0, graceful_timeout=300.0) as sim:
        sim.start()
        sim.reload()
        sim.until(lambda: bool(sim.find(Kind.ROLLOUT_FINISHED)))
        sim.turn()
        assert set(sim.group.configs) == {1, 2}
        sim.until(lambda: bool(sim.find(Kind.EXITED)))
        assert set(sim.group.configs) == {2}


def test_a_worker_that_imports_other_files_than_the_first_one_is_told_of() -> None:
    with simulated(2, lambda _: UNSAFE) as sim:
        sim.start()
        assert not sim.find(Kind.TROUBLE)
        changed = Behaviour(unsafe="the thread 'x'", fingerprint="other files")
        sim.kernel.behaviour = lambda _: changed
        sim.kernel.kill(sim.kernel.workers()[0].pid, signal.SIGKILL)
        sim.settle()
        (trouble,) = sim.find(Kind.TROUBLE)
        assert "other files" in trouble.fields["reason"]
        assert sim.ready() == 2


def test_the_kept_zygote_goes_after_ten_minutes() -> None:
    with simulated(1, rollback_keep=600.0) as sim:
        sim.start()
        sim.reload()
        sim.until(lambda: sim.group.goal.kept == 1)
        began = sim.kernel.time
        sim.until(lambda: sim.group.goal.kept is None)
        assert sim.kernel.time == pytest.approx(began + 600.0, abs=1.0)
        sim.settle()
        assert [z.generation for z in sim.group.roster.zygotes] == [2]


def test_a_scaled_size_holds_over_reloads_until_the_setting_changes() -> None:
    with simulated(2) as sim:
        sim.start()
        sim.order(lambda: orders.scale(sim.group, 4, "test"))
        sim.reload()
        sim.settle()
        assert sim.ready(2) == 4
        sim.config = replace(sim.config, fleet=replace(sim.config.fleet, workers=3))
        sim.reload()
        sim.settle()
        assert sim.ready(3) == 3


@pytest.mark.parametrize(("size", "why"), [(0, "1 to 480"), (481, "1 to 480"), (-3, "1 to 480")])
def test_a_size_that_the_setting_would_not_take_is_refused(size: int, why: str) -> None:
    with simulated(2) as sim:
        sim.start()
        with pytest.raises(ConfigError, match=why):
            orders.scale(sim.group, size, "test", force=True)
        assert sim.group.goal.size == 2


def test_many_more_workers_than_cpus_must_be_meant() -> None:
    with simulated(2) as sim:
        sim.start()
        many = 4 * available_cpus() + 1
        with pytest.raises(ConfigError, match="more than 4 per CPU") as refused:
            orders.scale(sim.group, many, "test")
        assert "--force" in refused.value.remedy
        assert orders.scale(sim.group, many, "test", force=True) == many
        assert orders.scale(sim.group, many - 1, "test") == many - 1, "fewer is no slip"


def test_settings_that_need_a_restart_are_refused_by_name_and_nothing_changes() -> None:
    with simulated(1) as sim:
        sim.start()
        sim.config = replace(sim.config, place=replace(sim.config.place, name="other"))
        with pytest.raises(ConfigError, match="name cannot change"):
            sim.reload()
        sim.settle()
        assert sim.find(Kind.RELOAD_REFUSED)
        assert sim.ready(1) == 1


def resumed(sim: Simulation) -> None:
    sim.start()
    sim.order(lambda: orders.pause(sim.group))
    sim.settle()
    sim.watching = False
    sim.kernel.send(signal.SIGHUP)
    sim.settle()


def test_a_reload_while_paused_resumes_on_the_new_code_alone() -> None:
    with simulated(2) as sim:
        resumed(sim)
        assert sim.ready(2) == 2
        after = sim.find(Kind.PAUSED)[0].number
        assert not [e for e in sim.find(Kind.SPAWNED, generation=1) if e.number > after]


def test_a_failed_reload_while_paused_resumes_on_the_old_code() -> None:
    with simulated(2, from_second(BROKEN["import error"])) as sim:
        resumed(sim)
        assert sim.find(Kind.ROLLOUT_FAILED)
        assert sim.ready(1) == 2


def test_a_hundred_reloads_leave_what_one_leaves() -> None:
    with simulated(2) as sim:
        sim.start()
        sizes = []
        for _ in range(100):
            sim.reload()
            sim.settle()
            group = sim.group
            tables: tuple[Sized, ...] = (
                group.configs,
                group.fingerprints,
                group.tracebacks,
                group.handles,
            )
            watched = len(sim.kernel.watched)
            sizes.append((watched, *map(len, tables), len(group.zygote_channels)))
        assert sizes[0] == sizes[-1]
        assert max(w.row for w in group.roster.workers.values()) <= 4
