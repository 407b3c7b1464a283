"""The master's end of a channel: the sender is the kernel's word, and nothing else is believed."""

import contextlib
import json
import math
import os
import select
import socket
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, fields
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clusterd.ipc.budget import BYTES, MESSAGES, Bucket, Budget
from clusterd.ipc.channel import LIMIT, Breach, Channel, Closed, Heard, MasterChannel
from clusterd.ipc.decoding import (
    ALL,
    FROM_WORKERS,
    FROM_ZYGOTES,
    GREATEST,
    LONG,
    MOST_ITEMS,
    SHORT,
    Malformed,
    decode,
)
from clusterd.ipc.messages import (
    Certified,
    Draining,
    Failed,
    Hello,
    Leave,
    Leaving,
    Loaded,
    Message,
)
from clusterd.kernel import child, passing
from tests.support.lingering import does_not_wait, lingering

Ends = tuple[MasterChannel, Channel]
NAMES = {kind.__name__: kind for kind in sorted(ALL, key=lambda kind: kind.__name__)}


@pytest.fixture(params=["refused", "looked for"])
def ends(request: pytest.FixtureRequest) -> Iterator[Ends]:
    """Both ends; with descriptors refused by the kernel, and on a kernel that cannot do that."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    master, other = MasterChannel(ours), Channel(theirs)
    if request.param == "looked for":
        with contextlib.suppress(OSError):  # such a kernel
            ours.setsockopt(socket.SOL_SOCKET, passing.SO_PASSRIGHTS, 1)
    yield master, other
    other.close()
    master.close()


def sample(kind: type[Message]) -> Message:
    """A message of a kind as one of ours might send it."""
    values: dict[object, object] = {int: 7, str: "a “word”\n", float: 0.25, bool: True}
    named = {field.name: values.get(field.type, ["x"]) for field in fields(kind)}
    if "kind" in named:
        named["kind"] = "busy"
    return kind(**named)  # type: ignore[arg-type]


def packet(name: str, **given: Any) -> bytes:
    return json.dumps([name, {**asdict(sample(NAMES[name])), **given}]).encode()


@pytest.mark.parametrize("name", NAMES)
def test_every_message_arrives_with_its_sender(ends: Ends, name: str) -> None:
    message = sample(NAMES[name])
    assert ends[1].send(message)
    heard = ends[0].hear(type(message) in FROM_WORKERS)
    assert isinstance(heard, Heard)
    assert (heard.message, heard.sender) == (message, os.getpid())


def test_the_sender_is_the_process_that_sent_it(ends: Ends) -> None:
    pid = os.fork()
    if pid == 0:
        ends[1].send(Hello(1, 0, 0, 1))
        os._exit(0)
    os.waitpid(pid, 0)
    heard = ends[0].hear(True)
    assert isinstance(heard, Heard)
    assert heard.sender == pid, "though it is gone, and said that it is another"


def test_nothing_there_is_none_and_a_closed_end_is_closed(ends: Ends) -> None:
    assert ends[0].hear(True) is None
    ends[1].send(Draining())
    ends[1].close()
    assert isinstance(ends[0].hear(True), Heard), "what was sent before the end is heard"
    assert isinstance(ends[0].hear(True), Closed)


def test_the_last_words_of_one_who_left_with_mail_unread_are_heard(ends: Ends) -> None:
    ends[0].send(Leave())
    ends[1].send(Failed("import", "why"))
    ends[1].close()
    heard = ends[0].hear(True)
    assert isinstance(heard, Heard)
    assert heard.message == Failed("import", "why")


@pytest.mark.parametrize("count", [1, 253])
def test_descriptors_are_never_taken(ends: Ends, count: int) -> None:
    before = len(os.listdir("/proc/self/fd"))
    if ends[1].send(Draining(), [0] * count):
        with pytest.raises(Breach, match="descriptors"):
            ends[0].hear(True)
        with pytest.raises(Breach, match="descriptors"):
            ends[0].hear(True)  # the packet stays, and so does what is in it
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_descriptor_that_blocks_blocks_nobody(ends: Ends) -> None:
    with lingering() as sock:
        ends[1].send(Draining())
        if not ends[1].send(Draining(), [sock.fileno()]):
            return  # the kernel has refused it
        sock.close()
        does_not_wait(lambda: ends[0].hear(True))
        does_not_wait(ends[0].close)
    assert ends[0].fileno() == -1


def test_the_process_that_closes_it_is_there_until_the_master_has(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """However late the master gets on: else its own close would be the last one, and block."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

    def start(command: Sequence[str], keep: Iterable[int]) -> int:
        pid = child.start(command, keep)
        pidfd = os.pidfd_open(pid)
        poll = select.poll()
        poll.register(pidfd)
        assert poll.poll(1000) == [], "it has ended"
        os.close(pidfd)
        return pid

    monkeypatch.setattr(passing, "child", SimpleNamespace(start=start))
    with lingering() as sock, theirs:
        socket.send_fds(theirs, [b"x"], [sock.fileno()])
        sock.close()
        does_not_wait(lambda: passing.let_go(ours))
    assert not passing._left


def test_an_empty_packet_hides_no_descriptor_behind_it() -> None:
    """As on the sockets that workers hand connections over by, which do not ask for credentials."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with lingering() as sock, theirs:
        theirs.send(b"")
        socket.send_fds(theirs, [b"x"], [sock.fileno()])
        sock.close()
        does_not_wait(lambda: passing.let_go(ours))
    assert ours.fileno() == -1


def test_where_no_process_can_be_had_it_is_closed_with_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(2)]

    def refuse(*_: object) -> int:
        raise BlockingIOError("no process")

    before = len(os.listdir("/proc/self/fd"))
    for (ours, theirs), start in zip(pairs, (refuse, child.start), strict=True):
        monkeypatch.setattr(passing, "child", SimpleNamespace(start=start))
        socket.send_fds(theirs, [b"x"], [0])
        passing.let_go(ours)
        theirs.close()
        assert len(os.listdir("/proc/self/fd")) == before - (1 if start is refuse else 4)
    assert not passing._left


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"noise",
        b"{}",
        b"[" * 50_000,
        b"1" * 5000,
        b"x" * (LIMIT + 1),
        b'["Tea", {}]',
        b'["Leave", {}]',
        b'["Draining", {"now": 1}]',
        b'["Draining", {}, 1]',
        b'["Leaving", {}]',
        b'["Leaving", []]',
        b'[["Leaving"], {}]',
        b'["Hello", {"pid": NaN, "slot": 0, "row": 0, "generation": 1}]',
        b'["Hello", {"pid": 1.0, "slot": 0, "row": 0, "generation": 1}]',
        b'["Hello", {"pid": true, "slot": 0, "row": 0, "generation": 1}]',
        packet("Hello", pid=GREATEST + 1),
        packet("Hello", pid="7"),
        packet("Loaded"),
        packet("Leaving", reason="x" * (LONG + 1)),
        packet("Leaving", reason=None),
        packet("Leaving", recycle=1),
        packet("Failed", stage="x" * (SHORT + 1)),
        packet("Unwell", kind="blocked"),
        packet("Unwell", kind=["busy"]),
        packet("Certified", names=["x"] * (MOST_ITEMS + 1)),
        packet("Certified", names=[1]),
        packet("Certified", expires=-1),
        packet("Certified", expires=1e300),
        packet("Certified", expires=math.inf),
        b'["Certified", {"number": 1, "expires": 1e999}]',
    ],
)
def test_what_none_of_ours_sends_is_a_breach(ends: Ends, body: bytes) -> None:
    ends[1].sock.send(body)
    with pytest.raises(Breach) as caught:
        ends[0].hear(True)
    assert caught.value.sender == os.getpid()
    assert len(str(caught.value)) < 1000, "it is written to the journal"
    ends[1].send(Draining())
    assert isinstance(ends[0].hear(True), Heard), "what comes after it could be heard"


@pytest.mark.parametrize("kind", [int, float])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_number_is_as_large_as_is_exact_and_no_larger(kind: type[float], sign: int) -> None:
    number = kind(sign * GREATEST)
    message = decode(packet("Loaded", seconds=number), FROM_ZYGOTES)
    assert isinstance(message, Loaded)
    assert message.seconds == number
    with pytest.raises(Malformed, match="seconds"):
        decode(packet("Loaded", seconds=number * 2), FROM_ZYGOTES)


def test_zygotes_and_workers_say_what_is_theirs() -> None:
    with pytest.raises(Malformed, match="may not send 'Hello'"):
        decode(packet("Hello"), FROM_ZYGOTES)
    with pytest.raises(Malformed, match="may not send 'Unspawned'"):
        decode(packet("Unspawned"), FROM_WORKERS)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
FIELDS = sorted({field.name for kind in ALL for field in fields(kind)})


@given(
    name=st.sampled_from([*NAMES, "Leave", ""]),
    given_=st.dictionaries(st.sampled_from(FIELDS) | st.text(), VALUES),
)
def test_whatever_comes_is_a_message_or_malformed(name: str, given_: dict[str, Any]) -> None:
    body = json.dumps([name, given_]).encode()
    try:
        message = decode(body, ALL)
    except Malformed:
        return
    for value in asdict(message).values():
        assert not isinstance(value, float) or math.isfinite(value)
        assert not isinstance(value, int) or abs(value) <= GREATEST


@given(body=st.binary(max_size=200))
def test_whatever_bytes_come_they_are_malformed(body: bytes) -> None:
    with pytest.raises(Malformed):
        decode(body, ALL)


def test_a_budget_is_so_much_at_once_and_then_so_much_a_second() -> None:
    bucket = Bucket(3, 2.0)
    assert [bucket.take(100.0, 1) for _ in range(5)] == [True] * 3 + [False] * 2
    assert [bucket.take(101.0, 1) for _ in range(3)] == [True] * 2 + [False]
    assert [bucket.take(1000.0, 1) for _ in range(4)] == [True] * 3 + [False], "never more"


def test_messages_and_bytes_are_counted() -> None:
    many, big = Budget(), Budget()
    said = [many.spend(0.0, 1) for _ in range(MESSAGES[0] + 1)]
    assert not any(said[:-1])
    assert "messages" in said[-1]
    said = [big.spend(0.0, LIMIT) for _ in range(BYTES[0] // LIMIT + 1)]
    assert not any(said[:-1])
    assert "bytes" in said[-1]


def test_what_a_worker_says_in_earnest_is_within_the_bounds() -> None:
    """A worker's own limits are below the master's."""
    assert decode(packet("Leaving", reason="x" * LONG), ALL) == Leaving("x" * LONG, True)
    names = Certified(1, names=["x"] * 50)
    assert decode(json.dumps(["Certified", asdict(names)]).encode(), ALL) == names
