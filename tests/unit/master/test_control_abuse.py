"""The control socket under abuse: what it costs is bounded, and whoever behaves is answered."""

import contextlib
import json
import os
import resource
import socket

import pytest

from clusterd.core.events import Kind
from clusterd.ipc.journal import KEPT
from clusterd.kernel import passing
from clusterd.master import control
from clusterd.master.control import MOST_CLIENTS, MOST_REQUEST, PIECE
from tests.support.desk import Caller, Desk
from tests.support.lingering import does_not_wait, lingering

STATUS = b'{"command": "status"}\n'


def alive(desk: Desk, caller: Caller) -> bool:
    """Is it still a client?"""
    desk.sim.turn()
    return caller.read()


def unread(desk: Desk) -> int:
    return sum(len(client.unread) for client in desk.control.clients.values())


def test_a_follower_that_never_reads_costs_a_piece_and_others_hear_all(desk: Desk) -> None:
    deaf, listener = desk.call(), desk.call()
    for caller in (deaf, listener):
        caller.say('{"command": "events", "follow": true}\n')
    desk.sim.turn()
    first = desk.sim.cluster.journal.last + 1
    rounds = 100
    for _ in range(rounds):
        desk.sim.cluster.note(Kind.TROUBLE, reason="x" * 100_000)
        desk.sim.turn()
        listener.read()
    assert unread(desk) <= PIECE + 110_000
    numbers = [event["n"] for event in listener.replies()]
    assert numbers[-rounds:] == list(range(first, first + rounds))


def test_one_that_comes_round_late_gets_all_that_is_kept_or_is_dropped(desk: Desk) -> None:
    late, too_late = desk.call(), desk.call()
    for caller in (late, too_late):
        caller.say('{"command": "events", "follow": true}\n')
    for _ in range(100):
        desk.sim.cluster.note(Kind.TROUBLE, reason="x" * 10_000)
        desk.sim.turn()
    last = desk.sim.cluster.journal.last
    while not late.replies() or late.replies()[-1]["n"] < last:
        desk.sim.turn()
    assert [event["n"] for event in late.replies()] == list(range(1, last + 1))
    for _ in range(KEPT):
        desk.sim.cluster.note(Kind.TROUBLE, reason="y")
        late.read()
    while too_late.read():
        desk.sim.turn()
    numbers = [json.loads(line)["n"] for line in too_late.heard.splitlines()]
    assert numbers == list(range(1, len(numbers) + 1)), "no gap that nobody is told of"


def test_who_does_not_read_replies_is_not_heard_until_it_does(desk: Desk) -> None:
    """Else a line of 22 bytes would buy a status of kilobytes, thousands of times."""
    greedy = desk.call()
    asked = 0
    while True:
        try:
            asked += greedy.sock.send(STATUS * 100) // len(STATUS)
        except BlockingIOError:
            break
        desk.sim.turn()
    assert unread(desk) < PIECE
    (client,) = desk.control.clients.values()
    assert len(client.heard) <= 2 * MOST_REQUEST
    assert desk.sim.kernel.wait(0.0) == [], "the master sleeps while it does not read"
    whole = 0
    while len(greedy.heard.splitlines()) < asked and whole < 100_000:
        greedy.read()
        desk.sim.turn()
        whole += 1
    assert len(greedy.heard.splitlines()) >= asked


def test_requests_sent_at_once_are_answered_in_their_order_also_behind_one_that_waits(
    desk: Desk,
) -> None:
    caller = desk.call()
    caller.say('{"command": "reload", "wait": true}\n' + STATUS.decode())
    desk.sim.turn()
    assert caller.replies() == []
    desk.sim.settle()
    desk.sim.turn()
    first, second = caller.replies()
    assert (first["ok"], "workers" in first) == (True, False)
    assert second["generation"] == 2


def test_a_newcomer_takes_the_place_of_the_one_that_was_silent_longest(desk: Desk) -> None:
    callers = [desk.call() for _ in range(MOST_CLIENTS)]
    callers[0].say(STATUS)
    desk.sim.turn()
    assert desk.ask(STATUS)["ok"]
    assert alive(desk, callers[0]), "it spoke after the others"
    assert not alive(desk, callers[1])
    assert alive(desk, callers[2])
    assert len(desk.control.clients) == MOST_CLIENTS


def test_a_thousand_idle_clients_cost_no_follower_and_nobody_who_waits(desk: Desk) -> None:
    follower, waiting = desk.call(), desk.call()
    follower.say('{"command": "events", "follow": true}\n')
    waiting.say('{"command": "reload", "wait": true}\n')
    desk.sim.turn()
    for _ in range(1000):
        extra = desk.call()
        if len(desk.callers) > 200:  # descriptors are dear
            desk.callers.remove(extra)
            extra.sock.close()
    assert len(desk.control.clients) <= MOST_CLIENTS
    assert desk.ask(STATUS)["ok"]
    desk.sim.settle()
    assert alive(desk, follower)
    assert waiting.replies()[0]["ok"]


def test_where_all_follow_the_oldest_makes_room_and_where_all_wait_too(desk: Desk) -> None:
    for request in ('{"command": "events", "follow": true}\n', '{"command": "dump"}\n'):
        callers = []
        for _ in range(MOST_CLIENTS):
            callers.append(desk.call())
            callers[-1].say(request)
        for caller in callers:
            caller.read()
        assert desk.ask(STATUS)["ok"]


@pytest.mark.parametrize(
    ("sizes", "gone"),
    [
        ([1_500_000] * 4, 0),  # of equals the oldest
        ([900_000, 1_900_000, 1_000_000], 1),
        ([1_900_000, 900_000, 1_000_000], 0),
    ],
)
def test_of_those_who_do_not_read_large_replies_the_largest_goes_first(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, sizes: list[int], gone: int
) -> None:
    monkeypatch.setattr(control, "MOST_UNREAD", 3_000_000)
    clients = []
    for size in sizes:
        desk.call()
        clients.append(list(desk.control.clients.values())[-1])
        desk.control._say(clients[-1], {"ok": True, "text": "x" * size})
    assert unread(desk) <= 3_000_000
    assert clients[-1].number in desk.control.clients, "whoever asked last gets its answer"
    assert clients[gone].number not in desk.control.clients


def test_one_reply_may_be_larger_than_all_are_allowed_to_leave_unread(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "MOST_UNREAD", 100_000)
    caller = desk.call()
    (client,) = desk.control.clients.values()
    desk.control._say(client, {"ok": True, "text": "x" * 1_500_000})
    while not caller.heard.endswith(b"\n"):
        assert caller.read()
        desk.sim.turn()
    assert len(caller.replies()[0]["text"]) == 1_500_000


def test_where_descriptors_run_out_an_idle_client_makes_room(desk: Desk) -> None:
    idle = desk.call()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    caller = Caller(desk.control)
    desk.callers.append(caller)
    caller.say(STATUS)
    holes = []  # free numbers below those that are in use would be taken first
    used = [client.sock.fileno() for client in desk.control.clients.values()]
    while (lowest := os.dup(0)) < max(used):
        holes.append(lowest)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
    try:
        desk.sim.turn()
        desk.sim.turn()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for hole in holes:
            os.close(hole)
    desk.sim.turn()
    assert not idle.read()
    assert caller.replies()[0]["ok"]
    assert desk.sim.cluster.fault is None


@pytest.mark.parametrize("is_old", [False, True])
def test_a_descriptor_that_blocks_at_its_close_costs_its_sender_alone(
    desk: Desk, is_old: bool
) -> None:
    """The admin endpoint, another user's process, may be a client. `is_old`: a kernel that cannot
    refuse descriptors."""
    if is_old:
        with contextlib.suppress(OSError):
            desk.control.file.sock.setsockopt(socket.SOL_SOCKET, passing.SO_PASSRIGHTS, 1)
    caller = desk.call()
    with lingering() as sock:
        caller.say('{"command": ')
        before = len(os.listdir("/proc/self/fd"))
        try:
            socket.send_fds(caller.sock, [b'"status"}\n'], [sock.fileno()])
        except PermissionError:
            assert not is_old
            return
        sock.close()
        does_not_wait(lambda: desk.dropped(caller))
        assert len(os.listdir("/proc/self/fd")) == before - 2, "it took none, and closed its own"
    assert desk.ask('{"command": "status"}')["ok"]
