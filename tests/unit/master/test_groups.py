"""Several groups in one cluster, simulated: each lives by itself, in the order that it asks for."""

from dataclasses import replace

import pytest

from clusterd.config.resolve import in_order
from clusterd.core.errors import ConfigError
from clusterd.core.events import Kind
from clusterd.core.exits import Exit
from clusterd.fleet.goal import Mode
from clusterd.ipc.messages import Drain
from clusterd.master import commands, orders, reload, report
from tests.support.fake import Behaviour
from tests.support.several import groups, program, ready, up
from tests.support.simulated import config


def test_each_group_has_its_size_and_its_own_generation() -> None:
    with groups(web=config(2), work=program(3)) as sim:
        up(sim)
        sim.settle()
        assert (ready(sim, "web"), ready(sim, "work")) == (2, 3)
        assert [g.goal.stable for g in sim.cluster.groups.values()] == [1, 2]
        told = report.status(sim.cluster)
        assert (told["size"], told["ready"], told["state"]) == (5, 5, "serving")
        assert {w["group"] for w in told["workers"]} == {"web", "work"}
        assert [g["kind"] for g in told["groups"]] == ["app", "command"]


def test_a_group_starts_after_those_that_it_names_and_stops_before_them() -> None:
    with groups(db=program(), web=config(2, after=("db",))) as sim:
        up(sim)
        sim.settle()
        born = [e.fields["group"] for e in sim.find(Kind.ZYGOTE_SPAWNED)]
        first = sim.find(Kind.ZYGOTE_SPAWNED, group="web")[0].number
        assert born == ["db", "web"]
        assert sim.find(Kind.READIED, group="db")[0].number < first
        sim.order(lambda: orders.stop(sim.cluster))
        sim.until(lambda: sim.loop.over)
        gone = [e.number for e in sim.find(Kind.ZYGOTE_EXITED, group="web")]
        retired = sim.find(Kind.RETIRED, group="db")[0].number
        assert gone
        assert gone[-1] < retired


def test_a_quick_stop_waits_for_no_order() -> None:
    with groups(db=program(), web=config(1, after=("db",))) as sim:
        up(sim)
        sim.order(lambda: orders.quit_now(sim.cluster, "test"))
        assert all(g.goal.mode is Mode.STOPPING for g in sim.cluster.groups.values())
        sim.until(lambda: sim.loop.over)


def test_a_stop_before_a_group_has_started_does_not_start_it() -> None:
    with groups(db=program(), web=config(1, after=("db",))) as sim:
        sim.turn()
        sim.order(lambda: orders.stop(sim.cluster))
        sim.until(lambda: sim.loop.over)
        assert not sim.find(Kind.ZYGOTE_SPAWNED, group="web")


def test_a_group_that_never_comes_up_ends_a_first_start_while_nothing_serves() -> None:
    with groups(lambda _: Behaviour(import_error="no tea"), web=config(1)) as sim:
        sim.until(lambda: sim.loop.over)
        assert sim.cluster.exit is Exit.NEVER_READY


def test_an_application_that_never_comes_up_ends_a_first_start_whatever_programs_run() -> None:
    def behave(generation: int) -> Behaviour:
        return Behaviour(import_error="no tea", import_time=5.0) if generation == 1 else Behaviour()

    with groups(behave, web=config(1), work=program(), admin=config(1)) as sim:
        sim.until(lambda: ready(sim, "work") == ready(sim, "admin") == 1)
        sim.until(lambda: sim.loop.over)
        assert sim.cluster.exit is Exit.NEVER_READY


def test_a_group_that_never_comes_up_leaves_the_others_alone_and_is_tried_again() -> None:
    def behave(generation: int) -> Behaviour:
        return Behaviour(import_error="no tea", import_time=1.0) if generation == 2 else Behaviour()

    with groups(behave, web=config(2), api=config(1)) as sim:
        sim.until(lambda: len(sim.find(Kind.ZYGOTE_FAILED, group="api")) >= 4)
        assert ready(sim, "web") == 2
        assert not sim.cluster.stopping
        assert report.group_state(sim.cluster.groups["api"]) == "starting"
        waits = [e.fields["retry_in"] for e in sim.find(Kind.BACKED_OFF, group="api")]
        assert waits == sorted(waits)
        assert waits


def test_a_program_that_fails_keeps_nobody_from_being_ready() -> None:
    def behave(generation: int) -> Behaviour:
        dies = Behaviour(ready_time=None, dies_after=0.01)
        return dies if generation == 2 else Behaviour()

    with groups(behave, web=config(1), work=program()) as sim:
        sim.until(lambda: bool(sim.find(Kind.READY)) and len(sim.find(Kind.EXITED)) > 5)
        assert ready(sim, "web") == 1


def test_a_reload_rolls_every_group_and_fails_for_each_by_itself() -> None:
    def behave(generation: int) -> Behaviour:
        return Behaviour(import_error="no tea") if generation == 4 else Behaviour()

    with groups(behave, web=config(2), work=program()) as sim:
        up(sim)
        begun = sim.order(lambda: reload.begin(sim.cluster, "test"))
        assert begun == {"web": 3, "work": 4}
        sim.settle()
        assert sim.find(Kind.ROLLOUT_FINISHED, group="web", generation=3)
        assert sim.find(Kind.ROLLOUT_FAILED, group="work", generation=4, serving=2)
        assert [g.goal.stable for g in sim.cluster.groups.values()] == [3, 2]


def test_one_group_can_be_reloaded_alone() -> None:
    with groups(web=config(1), work=program()) as sim:
        up(sim)
        assert sim.order(lambda: reload.begin(sim.cluster, "test", "work")) == {"work": 3}
        sim.settle()
        assert [g.goal.stable for g in sim.cluster.groups.values()] == [1, 3]


def test_a_reload_starts_new_groups_and_drains_those_no_longer_named() -> None:
    with groups(web=config(1), work=program(2)) as sim:
        up(sim)
        sim.configs = {"mail": program(), "web": sim.configs["web"]}
        sim.order(lambda: reload.begin(sim.cluster, "test"))
        sim.settle()
        assert list(sim.cluster.groups) == ["mail", "web"]
        assert sim.find(Kind.GROUP_ADDED, group="mail")
        assert sim.find(Kind.GROUP_REMOVED, group="work")
        assert all(e.fields["asked"] for e in sim.find(Kind.EXITED, group="work"))
        assert ready(sim, "mail") == 1


def test_a_refused_reload_changes_no_group() -> None:
    taken = config(1)
    with groups(web=config(1)) as sim:
        up(sim)
        (one,) = sim.group.sockets
        bound = replace(taken, listen=replace(taken.listen, bind=(one.name,)))
        sim.configs = {**sim.configs, "api": bound}
        with pytest.raises(Exception, match="in use"):
            sim.order(lambda: reload.begin(sim.cluster, "test"))
        sim.settle()
        assert list(sim.cluster.groups) == ["web"]
        assert sim.group.goal.candidate is None
        assert sim.find(Kind.RELOAD_REFUSED)


def test_a_request_may_name_a_group() -> None:
    with groups(web=config(1), work=program()) as sim:
        up(sim)
        reply = sim.order(
            lambda: commands.answer(sim.cluster, {"command": "scale", "to": 3, "group": "work"})
        )
        assert reply == {"ok": True, "size": 3, "group": "work"}
        sim.settle()
        assert (ready(sim, "web"), ready(sim, "work")) == (1, 3)
        reply = commands.answer(sim.cluster, {"command": "scale", "to": 3, "group": "tea"})
        assert isinstance(reply, dict)
        assert not reply["ok"]
        assert "there is no group 'tea'" in reply["error"]


def test_groups_that_wait_for_each_other_are_refused() -> None:
    from_file = {"web": config(1, after=("work",)), "work": program(after=("web",))}

    with pytest.raises(ConfigError, match="wait for each other"):
        in_order(from_file)
    with pytest.raises(ConfigError, match="no such group"):
        in_order({"web": config(1, after=("tea",))})


def test_a_program_that_fails_while_an_application_is_being_imported_ends_nothing() -> None:
    """It has failed three times in a moment; nobody is ready, and yet somebody will be."""

    def behave(generation: int) -> Behaviour:
        dies = Behaviour(ready_time=None, dies_after=0.01)
        return Behaviour(import_time=5.0) if generation == 1 else dies

    with groups(behave, web=config(1), work=program(), job=program(after=("work",))) as sim:
        sim.until(lambda: ready(sim, "web") == 1)
        assert len(sim.find(Kind.EXITED, group="work")) > 3
        assert not sim.cluster.stopping


def test_programs_alone_that_all_fail_end_a_first_start() -> None:
    dies = Behaviour(ready_time=None, dies_after=0.01)
    with groups(lambda _: dies, one=program(), two=program(), job=program(after=("one",))) as sim:
        sim.until(lambda: sim.loop.over)
        assert sim.cluster.exit is Exit.NEVER_READY


def test_a_rollout_that_ends_while_others_stop_keeps_the_haste_of_the_stop() -> None:
    with groups(db=program(graceful_timeout=20.0), web=config(1, after=("db",))) as sim:
        up(sim)
        sim.order(lambda: reload.begin(sim.cluster, "test", "db"))
        sim.order(lambda: orders.stop(sim.cluster, "test", 5.0))
        sim.until(lambda: bool(sim.find(Kind.ROLLOUT_FINISHED, group="db")) or sim.loop.over)
        assert sim.cluster.groups["db"].patience.graceful == 5.0


def test_a_program_that_is_still_starting_is_told_how_long_it_really_has() -> None:
    with groups(lambda _: Behaviour(ready_time=None), web=config(1)) as sim:
        sim.until(lambda: any(w.pid for w in sim.group.roster.workers.values()))
        sim.order(lambda: orders.stop(sim.cluster))
        sim.turn()
        sim.kernel.pump()
        (worker,) = sim.group.roster.workers.values()
        (child,) = sim.kernel.workers()
        (drain,) = [message for message in child.heard if isinstance(message, Drain)]
        left = worker.deadline - sim.kernel.now()
        assert drain.within < left <= drain.within + sim.group.patience.overtime
