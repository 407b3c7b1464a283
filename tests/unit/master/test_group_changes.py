"""Groups that change while they run: reloads, rollbacks, pauses, scaling; none half-way."""

import errno
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from clusterd.config.serving import TlsSettings
from clusterd.core.errors import ConfigError
from clusterd.core.events import Kind
from clusterd.fleet.goal import Mode
from clusterd.fleet.lifecycle import Phase
from clusterd.ipc.messages import Ready, Sockets
from clusterd.ipc.scoreboard import Cell, Scoreboard
from clusterd.master import orders, reload, report
from tests.support.fake import Behaviour
from tests.support.several import ask, bound, groups, program, ready, up
from tests.support.simulated import config


def test_a_refused_reload_leaves_no_new_address_of_another_group_bound(tmp_path: Path) -> None:
    with groups(web=config(1)) as sim:
        up(sim)
        (one,) = sim.group.sockets
        new, own = f"unix:{tmp_path / 'new.sock'}", sim.configs["web"].listen.bind
        web = bound(sim.configs["web"], *own, new)
        sim.configs = {"web": web, "api": bound(config(1), one.name)}
        assert not ask(sim, "reload")["ok"]
        assert [listener.name for listener in sim.group.sockets] == [one.name]
        assert not (tmp_path / "new.sock").exists()


def test_a_want_of_descriptors_refuses_a_reload(monkeypatch: pytest.MonkeyPatch) -> None:
    def full() -> Any:
        raise OSError(errno.EMFILE, "Too many open files")

    with groups(web=config(1)) as sim:
        up(sim)
        sim.configs = {**sim.configs, "api": config(1)}
        monkeypatch.setattr(Scoreboard, "create", full)
        reply = ask(sim, "reload")
        assert "Too many open files" in reply["error"]
        (event,) = sim.find(Kind.RELOAD_REFUSED)
        assert "group" not in event.fields, "it was to be of all"


def test_a_group_that_is_stopping_is_not_reloaded() -> None:
    with groups(web=config(1), work=program()) as sim:
        up(sim)
        before = sim.configs
        sim.configs = {"web": before["web"]}
        ask(sim, "reload")
        assert sim.cluster.groups["work"].goal.mode is Mode.STOPPING
        sim.configs = before
        assert "still stopping" in ask(sim, "reload", group="work")["error"]
        assert sim.find(Kind.RELOAD_REFUSED)[-1].fields["group"] == "work"
        sim.settle()
        assert "work" not in sim.cluster.groups


def test_who_waits_for_queued_reloads_has_an_answer_whichever_is_through_first() -> None:
    def behave(generation: int) -> Behaviour:
        return Behaviour(import_time=9.0) if generation == 3 else Behaviour()

    with groups(behave, web=config(1), work=program()) as sim:
        up(sim)
        ask(sim, "reload")
        waiter = ask(sim, "reload", wait=True)
        replies: list[Any] = []
        sim.cluster.journal.listen(lambda event: replies.append(waiter(event)))
        sim.settle()
        said = [reply for reply in replies if reply is not None]
        stable = {name: group.goal.stable for name, group in sim.cluster.groups.items()}
        assert said[0] == {"ok": True, "generation": stable["web"], "generations": stable}
        assert stable["work"] < stable["web"]


def test_another_refused_reload_is_no_answer_to_who_waits() -> None:
    with groups(web=config(1)) as sim:
        up(sim)
        waiter = ask(sim, "reload", wait=True)
        replies: list[Any] = []
        sim.cluster.journal.listen(lambda event: replies.append(waiter(event)))
        good, sim.configs = sim.configs, {"web": bound(sim.configs["web"], "127.0.0.1:0", "x:1")}
        assert not ask(sim, "reload")["ok"]
        sim.configs = good
        sim.settle()
        assert [reply["ok"] for reply in replies if reply is not None] == [True]


def test_pause_and_resume_reach_all_groups_though_one_is_there_already() -> None:
    with groups(web=config(1), work=program(), job=program()) as sim:
        up(sim)
        ask(sim, "pause", group="work")
        assert ask(sim, "pause")["ok"]
        assert {g.goal.mode for g in sim.cluster.groups.values()} == {Mode.PAUSED}
        assert not ask(sim, "pause")["ok"]
        ask(sim, "resume", group="web")
        assert ask(sim, "resume")["ok"]
        assert {g.goal.mode for g in sim.cluster.groups.values()} == {Mode.SERVING}
        assert not ask(sim, "resume")["ok"]


def test_a_rollback_is_of_all_groups_or_of_none() -> None:
    with groups(web=config(1), api=config(1)) as sim:
        up(sim)
        ask(sim, "reload")
        sim.settle()
        ask(sim, "pause", group="api")
        assert not ask(sim, "rollback")["ok"]
        assert sim.group.goal.candidate is None


def test_a_program_is_not_rolled_back_and_the_replies_say_so() -> None:
    with groups(web=config(1), work=program()) as sim:
        up(sim)
        assert "files on disk" in ask(sim, "reload")["no_rollback"]["work"]
        sim.settle()
        reply = ask(sim, "rollback", group="work")
        assert not reply["ok"]
        assert "put the old code back" in reply["remedy"]
        reply = ask(sim, "rollback")
        assert reply["generations"] == {"web": 1}
        assert "files on disk" in reply["left"]["work"]


def test_a_group_that_is_scaled_down_to_who_is_ready_is_up() -> None:
    waits = config(1, after=("db",))
    sulks = Behaviour(ready_time=None)
    with groups(lambda g: sulks if g == 1 else Behaviour(), db=program(2), web=waits) as sim:
        sim.until(lambda: len(sim.kernel.workers()) == 2)
        first = next(one for one in sim.kernel.workers() if one.slot == 0)
        first.channel.send(Ready(first.pid, 0, 1))
        sim.until(lambda: ready(sim, "db") == 1)
        assert report.group_state(sim.cluster.groups["web"]) == "waiting"
        ask(sim, "scale", to=1, group="db")
        sim.until(lambda: ready(sim, "web") == 1)


def test_all_is_up_once_those_that_never_came_up_are_removed() -> None:
    def behave(generation: int) -> Behaviour:
        return Behaviour(import_error="no tea", import_time=1.0) if generation == 2 else Behaviour()

    with groups(behave, web=config(1), api=config(1)) as sim:
        sim.until(lambda: bool(sim.find(Kind.BACKED_OFF, group="api")))
        assert not sim.cluster.announced
        sim.configs = {"web": sim.configs["web"]}
        ask(sim, "reload")
        sim.settle()
        assert sim.find(Kind.READY)


def test_a_reload_can_take_back_what_a_group_waits_for() -> None:
    def behave(generation: int) -> Behaviour:
        return Behaviour(import_error="no tea") if generation in (2, 5) else Behaviour()

    with groups(behave, api=config(1), db=program(), web=config(1, after=("db",))) as sim:
        sim.until(lambda: bool(sim.find(Kind.BACKED_OFF, group="db")))
        assert ready(sim, "web") == 0
        sim.configs = {**sim.configs, "web": config(1)}
        ask(sim, "reload")
        sim.until(lambda: ready(sim, "web") == 1)


def test_a_pause_does_not_start_a_group_that_waits() -> None:
    with groups(
        lambda g: Behaviour(ready_time=5.0) if g == 1 else Behaviour(),
        db=program(),
        web=config(1, after=("db",)),
    ) as sim:
        sim.until(lambda: bool(sim.find(Kind.SPAWNED, group="db")))
        ask(sim, "pause", group="web")
        sim.turn()
        assert not sim.find(Kind.ZYGOTE_SPAWNED, group="web")
        ask(sim, "resume", group="web")
        sim.until(lambda: ready(sim, "web") == 1)


def test_a_stop_ends_though_groups_came_to_wait_for_each_other() -> None:
    """One has its new settings, and the other kept the old ones when its new code failed."""

    def behave(generation: int) -> Behaviour:
        return Behaviour(import_error="no tea") if generation == 4 else Behaviour()

    with groups(behave, db=program(), web=config(1, after=("db",))) as sim:
        up(sim)
        sim.configs = {"web": config(1), "db": program(after=("web",))}
        ask(sim, "reload")
        sim.settle()
        assert sim.find(Kind.ROLLOUT_FAILED, group="web")
        ask(sim, "stop")
        sim.until(lambda: sim.loop.over)


def test_what_cannot_change_is_compared_within_a_group() -> None:
    web = bound(config(1, after=("db",)), "127.0.0.1:0", balance="reuseport")
    with groups(db=program(), web=web) as sim:
        up(sim)
        assert ask(sim, "reload")["ok"]
        sim.configs = {**sim.configs, "web": config(1, after=("db",))}
        assert "balance cannot change" in ask(sim, "reload")["error"]


def test_a_cluster_that_has_served_never_gives_up() -> None:
    def behave(generation: int) -> Behaviour:
        return Behaviour(import_error="no tea") if generation == 2 else Behaviour()

    with groups(behave, web=config(1)) as sim:
        up(sim)
        sim.configs = {"api": config(1)}
        ask(sim, "reload")
        sim.until(lambda: len(sim.find(Kind.ZYGOTE_FAILED, group="api")) >= 4)
        assert list(sim.cluster.groups) == ["api"]
        assert not sim.cluster.stopping


def test_a_rollback_binds_again_what_the_old_settings_name(tmp_path: Path) -> None:
    old, new = f"unix:{tmp_path / 'old.sock'}", f"unix:{tmp_path / 'new.sock'}"
    with groups(web=bound(config(1), old)) as sim:
        up(sim)
        sim.configs = {"web": bound(config(1), new)}
        ask(sim, "reload")
        sim.settle()
        assert ask(sim, "rollback")["ok"]
        sim.settle()
        assert sim.group.goal.stable == 1
        assert [one.name for one in sim.group.sockets] == [old]


def test_a_pause_lets_go_of_what_only_the_abandoned_rollout_had_bound(tmp_path: Path) -> None:
    with groups(web=config(1)) as sim:
        up(sim)
        own = sim.configs["web"].listen.bind
        sim.configs = {"web": bound(config(1), *own, f"unix:{tmp_path / 'new.sock'}")}
        ask(sim, "reload")
        assert ask(sim, "pause")["ok"]
        assert len(list(sim.group.sockets)) == 1


def test_a_group_that_becomes_a_singleton_has_one_process() -> None:
    with groups(web=config(1), work=program()) as sim:
        up(sim)
        ask(sim, "scale", to=3, group="work")
        single = program()
        single = replace(single, command=replace(single.command, singleton=True))
        sim.configs = {**sim.configs, "work": single}
        ask(sim, "reload")
        sim.settle()
        assert ready(sim, "work") == 1


@pytest.mark.parametrize("force", [False, True])
def test_a_singleton_cannot_be_scaled(force: bool) -> None:
    single = program()
    single = replace(single, command=replace(single.command, singleton=True))
    with groups(web=config(1), work=single) as sim:
        up(sim)
        with pytest.raises(ConfigError, match="is a singleton and cannot have 2 processes"):
            orders.scale(sim.cluster.groups["work"], 2, "test", force=force)
        assert sim.cluster.groups["work"].goal.size == 1


def test_a_keeper_that_is_killed_leaves_no_program_though_its_group_serves_by_now() -> None:
    """Its group ran a program, and has an application since the last reload."""
    killed: list[int] = []

    def behave(generation: int) -> Behaviour:
        return Behaviour(drain_time=None) if generation == 2 else Behaviour()

    with groups(behave, web=config(1), work=program()) as sim:
        up(sim)
        sim.kernel.kill_group = lambda leader, *_: killed.append(leader)  # type: ignore[method-assign]
        (keeper,) = sim.kernel.workers(2)
        sim.cluster.groups["work"].board.row(keeper.row)[Cell.COMMAND] = 4242
        sim.configs = {**sim.configs, "work": config(1)}
        ask(sim, "reload")
        sim.until(lambda: bool(sim.find(Kind.ROLLOUT_FINISHED, group="work")))
        sim.kernel.end(keeper, -9)
        sim.until(lambda: bool(sim.find(Kind.EXITED, pid=keeper.pid)))
        assert killed == [4242]


def test_certificates_are_renewed_in_every_group_that_can(tmp_path: Path) -> None:
    both = (tmp_path / "one.pem", tmp_path / "two.pem")
    for path in both:
        path.write_text("a pair")
    one, two = (replace(config(1), tls=TlsSettings(tls_cert=(str(path),))) for path in both)
    with groups(api=one, web=two) as sim:
        up(sim)
        both[0].unlink()
        assert "one.pem cannot be read" in ask(sim, "certificates")["error"]
        sim.until(lambda: bool(sim.find(Kind.CERTIFICATES_RENEWED, group="web")))


def test_the_undertaker_knows_what_a_rollback_has_bound(tmp_path: Path) -> None:
    old, new = f"unix:{tmp_path / 'old.sock'}", f"unix:{tmp_path / 'new.sock'}"
    with groups(web=bound(config(1), old)) as sim:
        up(sim)
        sim.configs = {"web": bound(config(1), new)}
        ask(sim, "reload")
        sim.settle()
        ask(sim, "rollback")
        sim.turn()
        (zygote, *_) = sim.kernel.zygotes()
        told = [one.sockets for one in zygote.heard if isinstance(one, Sockets)]
        assert str(tmp_path / "old.sock") in {path for path, _ in told[-1]}


def test_status_tells_of_a_failed_reload_until_one_succeeds() -> None:
    def behave(generation: int) -> Behaviour:
        return Behaviour(import_error="no\n tea") if generation == 3 else Behaviour()

    def told(name: str) -> str:
        return str(report.group_status(sim.cluster.groups[name])["failed_reload"])

    with groups(behave, web=config(1), api=config(1)) as sim:
        up(sim)
        ask(sim, "reload", group="web")
        sim.settle()
        assert told("web") == "generation 3 did not come up: import failed: no tea"
        assert report.status(sim.cluster)["failed_reload"] == told("web")
        assert told("api") == ""
        good, sim.configs = sim.configs, {**sim.configs, "web": bound(config(1), "x:1")}
        ask(sim, "reload")
        assert "x:1" in told("web")
        assert told("api") == told("web")
        sim.configs = good
        ask(sim, "reload", group="web")
        assert "x:1" in told("web"), "it is under way"
        sim.settle()
        assert told("web") == ""
        assert told("api") != "", "which was not asked for again"


def test_a_long_reason_is_told_in_a_line() -> None:
    text = reload.in_a_line("x\x1b\n" * 500)
    assert len(text) == reload.LONGEST
    assert text.isprintable()


def test_a_rollback_during_a_rollout_is_refused_and_says_what_gives_the_rollout_up() -> None:
    with groups(lambda g: Behaviour(ready_time=None if g == 2 else 0.1), web=config(1)) as sim:
        up(sim)
        ask(sim, "reload")
        sim.until(lambda: sim.group.roster.count(Phase.BOOTING) == 1)
        reply = ask(sim, "rollback")
        assert "the old generation still serves" in reply["error"]
        assert "'clusterd pause' gives the rollout up" in reply["remedy"]
        assert ask(sim, "pause")["ok"]
        assert ask(sim, "resume")["ok"]
        sim.until(lambda: ready(sim, "web") == 1)
        assert (sim.group.goal.stable, sim.group.goal.candidate) == (1, None)


def test_a_program_that_was_never_reloaded_has_no_rollback_either_for_the_same_reason() -> None:
    with groups(web=config(1), work=program()) as sim:
        up(sim)
        assert "files on disk" in ask(sim, "rollback", group="work")["error"]
        assert "no previous generation" in ask(sim, "rollback", group="web")["error"]


def test_a_program_whose_files_changed_is_noticed_when_one_starts_again() -> None:
    behaviour = Behaviour()
    with groups(lambda _: behaviour, web=config(1), work=program()) as sim:
        up(sim)
        behaviour.fingerprint = "other"
        (worker,) = sim.cluster.groups["work"].roster.workers.values()
        sim.kernel.kill(worker.pid or 0, 9)
        sim.until(lambda: len(sim.find(Kind.READIED, group="work")) == 2)
        (event,) = sim.find(Kind.TROUBLE, group="work")
        assert "worker 0 runs other files" in event.fields["reason"]
