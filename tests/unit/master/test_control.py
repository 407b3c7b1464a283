"""The control socket: whatever a client sends or does not read, the master goes on."""

import errno
import gc
import os
import resource
import stat
from pathlib import Path
from typing import NoReturn

import pytest

from clusterd.core.errors import BindError
from clusterd.core.events import Kind
from clusterd.master import commands
from clusterd.master.control import MOST_AT_ONCE, MOST_REQUEST, Control
from tests.support.desk import Caller, Desk
from tests.support.fake import Behaviour
from tests.support.simulated import simulated


def test_the_socket_is_its_owners_alone(desk: Desk) -> None:
    assert stat.S_IMODE(os.stat(desk.control.path).st_mode) == 0o600


def test_half_a_line_is_waited_for_and_two_lines_are_two_requests(desk: Desk) -> None:
    caller = desk.call()
    caller.say('{"command": ')
    desk.sim.turn()
    assert caller.replies() == []
    caller.say('"status"}\n{"command": "status"}\n{"comm')
    desk.sim.turn()
    assert [reply["ok"] for reply in caller.replies()] == [True, True]


@pytest.mark.parametrize(
    "line",
    ["tea", "[]", "7", '"status"', "{", "[" * 60_000, '{"a":' * 12_000, "9" * 5000, "", "\x00"],
)
def test_garbage_is_answered_and_the_line_stays_open(desk: Desk, line: str) -> None:
    caller = desk.call()
    caller.say(line + "\n")
    desk.sim.turn()
    (reply,) = caller.replies()
    assert not reply["ok"]
    assert "no request" in reply["error"]
    caller.say('{"command": "status"}\n')
    desk.sim.turn()
    assert caller.replies()[-1]["ok"]


def test_bytes_that_are_no_text_are_answered(desk: Desk) -> None:
    assert not desk.ask(b"\xff\xfe{\n")["ok"]


def test_a_request_without_an_end_is_dropped(desk: Desk) -> None:
    caller = desk.call()
    with pytest.raises((BrokenPipeError, ConnectionResetError)):
        for _ in range(4 * MOST_REQUEST // 8192):
            caller.say(b"x" * 8192)
            desk.sim.turn()


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ('{"command": "tea"}', "there is no command 'tea'"),
        ('{"command": null}', "there is no command None"),
        ("{}", "there is no command None"),
        ('{"command": ["status"]}', "there is no command"),
        ('{"command": "scale"}', "either 'to' or 'by'"),
        ('{"command": "scale", "to": 1, "by": 1}', "either 'to' or 'by'"),
        ('{"command": "scale", "to": "many"}', "scale: "),
        ('{"command": "scale", "to": null}', "scale: "),
        ('{"command": "scale", "to": 1e999}', "scale: "),
        ('{"command": "scale", "by": NaN}', "scale: "),
        ('{"command": "rollback"}', "no previous generation"),
        ('{"command": "resume"}', "not paused"),
        ('{"command": "restart"}', "'slot' is wanted"),
        ('{"command": "events", "since": "now"}', "'since' is a number"),
    ],
)
def test_what_cannot_be_done_is_refused_in_a_sentence(desk: Desk, line: str, error: str) -> None:
    reply = desk.ask(line)
    assert not reply["ok"]
    assert error in reply["error"]
    assert desk.sim.ready() == 2


def test_events_since_a_number_are_complete_and_then_the_connection_ends(desk: Desk) -> None:
    caller = desk.call()
    caller.say('{"command": "events", "since": 2}\n')
    desk.sim.turn()
    assert not caller.read()
    numbers = [event["n"] for event in caller.replies()]
    assert numbers == list(range(3, desk.sim.cluster.journal.last + 1))


def test_who_follows_misses_nothing(desk: Desk) -> None:
    caller = desk.call()
    caller.say('{"command": "events", "since": 1, "follow": true}\n')
    desk.sim.turn()
    desk.sim.reload()
    desk.sim.settle()
    numbers = [event["n"] for event in caller.replies()]
    assert numbers == list(range(2, desk.sim.cluster.journal.last + 1))


def test_a_slow_reader_gets_everything_in_the_end(desk: Desk) -> None:
    for _ in range(20):
        desk.sim.cluster.note(Kind.TROUBLE, reason="x" * 100_000)
    caller = desk.call()
    caller.say('{"command": "events"}\n')
    desk.sim.turn()
    while caller.read():
        desk.sim.turn()
    assert [event["n"] for event in caller.replies()][-1] == desk.sim.cluster.journal.last


def test_reload_that_waits_is_answered_at_the_end_of_the_rollout(desk: Desk) -> None:
    caller = desk.call()
    caller.say('{"command": "reload", "wait": true}\n')
    desk.sim.turn()
    assert caller.replies() == []
    desk.sim.settle()
    done = {"ok": True, "generation": 2, "generations": {"web": 2}}
    assert caller.replies() == [done]


def test_reload_of_broken_code_is_refused_with_its_traceback(desk: Desk) -> None:
    desk.sim.kernel.behaviour = lambda _: Behaviour(import_error="no module named tea")
    caller = desk.call()
    caller.say('{"command": "reload", "wait": true}\n')
    desk.sim.settle()
    (reply,) = caller.replies()
    assert not reply["ok"]
    assert "no module named tea" in reply["error"]
    assert reply["traceback"].startswith("Traceback")
    assert reply["generation"] == 1


def test_a_client_that_left_while_it_waited_costs_nothing(desk: Desk) -> None:
    caller = desk.call()
    caller.say('{"command": "reload", "wait": true}\n')
    desk.sim.turn()
    caller.sock.close()
    desk.sim.settle()
    assert not desk.control.clients
    assert desk.sim.ready(2) == 2


def test_lines_of_a_client_that_left_as_its_reply_came_are_not_obeyed(desk: Desk) -> None:
    caller = desk.call()
    caller.say('{"command": "reload", "wait": true}\n{"command": "scale", "to": 1}\n')
    desk.sim.turn()
    caller.sock.close()  # and before the master hears of that:
    desk.sim.cluster.note(Kind.ROLLOUT_FAILED, group="web", generation=2, serving=1, reason="")
    assert not desk.control.clients
    desk.sim.settle()
    assert desk.sim.ready(2) == 2, "as many as before"


def test_lines_after_the_one_whose_reply_ends_the_connection_are_not_obeyed(desk: Desk) -> None:
    caller = desk.call()
    caller.say('{"command": "events"}\n{"command": "scale", "to": 1}\n')
    desk.sim.settle()
    assert not caller.read()
    assert desk.sim.ready() == 2


def test_dump_answers_with_every_workers_stack(desk: Desk) -> None:
    caller = desk.call()
    caller.say('{"command": "dump"}\n')
    desk.sim.settle()
    (reply,) = caller.replies()
    assert sorted(dump["slot"] for dump in reply["dumps"]) == [0, 1]
    assert all(dump["text"].startswith("stack of") for dump in reply["dumps"])


def test_too_many_open_files_do_not_make_the_master_spin(desk: Desk) -> None:
    """The waiting client keeps the listener readable: the loop rests, and then tries again."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    caller = Caller(desk.control)
    desk.callers.append(caller)
    os.close(lowest := os.dup(0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, limit[1]))
    try:
        desk.sim.loop.turn()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limit)
    assert desk.sim.cluster.fault is not None
    desk.sim.cluster.fault = None
    desk.sim.turn()
    caller.say('{"command": "status"}\n')
    desk.sim.turn()
    assert caller.replies()[0]["ok"]


@pytest.mark.parametrize("what", ["a file", "a live socket"])
def test_a_place_that_cannot_be_had_is_refused_and_nothing_is_left_of_the_try(
    tmp_path: Path, what: str
) -> None:
    path = tmp_path / "c.sock"
    with simulated(1) as sim:
        other = Control(sim.cluster, str(path)) if what == "a live socket" else None
        if other is None:
            path.touch()
        gc.collect()  # what earlier tests left open is closed now, not between two looks
        before = sorted(os.listdir("/proc/self/fd")), sorted(tmp_path.iterdir())
        with pytest.raises(BindError):
            Control(sim.cluster, str(path))
        assert (sorted(os.listdir("/proc/self/fd")), sorted(tmp_path.iterdir())) == before
        if other is not None:
            other.close()


def test_a_directory_that_another_user_made_since_it_was_chosen_is_not_used(tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    link = tmp_path / "clusterd-7"
    link.symlink_to(theirs)
    with simulated(1) as sim, pytest.raises(BindError, match="it is a link"):
        Control(sim.cluster, str(link / "c.sock"), was_found=True)
    assert list(theirs.iterdir()) == []


def test_a_client_that_cannot_be_waited_for_is_dropped_and_hurts_nobody(desk: Desk) -> None:
    """Events are told from anywhere in the master; epoll_ctl(2) may refuse."""
    follower = desk.call()
    follower.say('{"command": "events", "follow": true}\n')
    desk.sim.turn()
    watch = desk.sim.kernel.watch

    def refuses(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "no room")

    desk.sim.kernel.watch = refuses  # type: ignore[method-assign]
    desk.sim.cluster.note(Kind.TROUBLE, reason="x" * 1_000_000)  # more than a socket takes
    late = desk.call()
    desk.sim.kernel.watch = watch  # type: ignore[method-assign]
    assert desk.dropped(follower)
    assert desk.dropped(late)
    assert not desk.control.clients


def test_a_command_that_fails_by_our_own_fault_is_answered_and_journaled(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_cluster: object, _request: object) -> NoReturn:
        raise OSError(errno.EMFILE, "no descriptor left")

    monkeypatch.setitem(commands.TABLE, "reload", fails)
    caller = desk.call()
    caller.say('{"command": "reload"}\n{"command": "status"}\n')
    desk.sim.loop.turn()
    refusal, status = caller.replies()
    assert not refusal["ok"]
    assert "no descriptor left" in refusal["error"]
    assert status["ok"]
    (event,) = desk.sim.find(Kind.TROUBLE, fault=True)
    assert "no descriptor left" in event.fields["reason"]
    assert "in fails" in event.fields["traceback"]


def test_a_client_with_a_thousand_requests_does_not_keep_the_master_to_itself(desk: Desk) -> None:
    many = 4 * MOST_AT_ONCE
    caller = desk.call()
    caller.say('{"command": "tea"}\n' * many)
    desk.sim.turn()
    assert len(caller.replies()) == MOST_AT_ONCE
    for _ in range(3):
        desk.sim.turn()
    assert len(caller.replies()) == many


@pytest.mark.parametrize("order", ['{"command": "pause"}', '{"command": "scale", "to": 1}'])
def test_a_restart_that_nobody_will_see_to_any_more_is_refused(desk: Desk, order: str) -> None:
    caller = desk.call()
    caller.say('{"command": "restart", "slot": 1}\n')
    desk.sim.turn()
    desk.ask(order)
    (reply,) = caller.replies()[:1]
    assert not reply["ok"]
    assert "slot 1" in reply["error"]
