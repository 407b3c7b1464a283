"""The channel: every message arrives as it was sent, or not at all, and nobody ever blocks."""

import dataclasses
import fcntl
import os
import socket
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clusterd.core.errors import Bug
from clusterd.ipc.channel import LIMIT, MAX_FDS, Channel, Closed, Foreign, close_all, encode
from clusterd.ipc.messages import WIRE, Dumped, Failed, Hello, Leave, Message, Sockets, Spawn

SAMPLES: dict[object, object] = {
    int: 7,
    str: "a “word”\n\x00",
    float: 0.25,
    bool: True,
    list[str]: ["x"],
    dict[str, int]: {"rows": 7},
}


def sample(kind: type[Message]) -> Message:
    """A message of a kind with every field set to something that is not its default."""
    values: dict[str, object] = {}
    for field in dataclasses.fields(kind):
        if field.name == "sockets":
            values[field.name] = [["/run/s", 5]]
        elif field.name == "config":
            values[field.name] = {"app": {"app": "shop:app"}}
        elif field.name == "listeners":
            values[field.name] = ["127.0.0.1:80", "unix:/run/s"]
        else:
            values[field.name] = SAMPLES[field.type]
    return kind(**values)  # type: ignore[arg-type]


@pytest.fixture
def ends() -> Iterator[tuple[Channel, Channel]]:
    here, there = Channel.pair()
    other = Channel(there)
    yield here, other
    here.close()
    other.close()


Ends = tuple[Channel, Channel]


def receive(channel: Channel) -> tuple[Message, list[int]]:
    received = channel.receive(block=False)
    assert received is not None
    assert not isinstance(received, Closed)
    return received


@pytest.mark.parametrize("name", WIRE)
def test_every_message_arrives_as_it_was_sent(ends: Ends, name: str) -> None:
    message = sample(WIRE[name])
    assert ends[0].send(message)
    assert receive(ends[1]) == (message, [])


@given(text=st.text())
def test_any_text_arrives(text: str) -> None:
    here, there = Channel.pair()
    other = Channel(there)
    assert here.send(Dumped(text))
    assert receive(other) == (Dumped(text), [])
    here.close()
    other.close()


def test_a_lone_surrogate_does_not_keep_a_message_from_going(ends: Ends) -> None:
    """A path that is no UTF-8 reaches a traceback as surrogates."""
    assert ends[0].send(Failed("import", "no module at \udcff"))
    message, _ = receive(ends[1])
    assert isinstance(message, Failed)
    assert message.reason.startswith("no module at ")


@pytest.mark.parametrize("count", [1, 6, MAX_FDS])
def test_descriptors_arrive_in_order_and_are_closed_at_exec(ends: Ends, count: int) -> None:
    pipes = [os.pipe() for _ in range(2)]
    fds = [pipes[i % 2][1] for i in range(count)]
    assert ends[0].send(Leave(), fds)
    _, got = receive(ends[1])
    inodes = [os.fstat(fd).st_ino for fd in fds]
    assert [os.fstat(fd).st_ino for fd in got] == inodes
    assert all(fcntl.fcntl(fd, fcntl.F_GETFD) & fcntl.FD_CLOEXEC for fd in got)
    close_all([*got, *(fd for pair in pipes for fd in pair)])


def test_more_descriptors_than_a_packet_takes_are_not_sent(ends: Ends) -> None:
    assert not ends[0].send(Leave(), [0] * (MAX_FDS + 1))
    assert ends[1].receive(block=False) is None


def test_nothing_there_is_none_and_a_closed_end_is_closed(ends: Ends) -> None:
    assert ends[1].receive(block=False) is None
    ends[0].send(Leave())
    ends[0].close()
    assert receive(ends[1])[0] == Leave(), "what was sent before the end is heard"
    assert isinstance(ends[1].receive(), Closed)


def test_the_last_words_of_one_who_left_with_mail_unread_are_heard(ends: Ends) -> None:
    """The kernel reports the reset first, once, and only then what was sent before it."""
    ours, theirs = ends
    ours.send(Leave())
    theirs.send(Failed("import", "why"))
    theirs.close()
    assert ours.receive(block=False) == (Failed("import", "why"), [])
    assert isinstance(ours.receive(block=False), Closed)


def test_a_full_buffer_or_a_dead_peer_is_false_and_never_blocks(ends: Ends) -> None:
    big = Dumped("x" * (LIMIT // 2))
    sent = 0
    while ends[0].send(big):
        sent += 1
        assert sent < 10_000
    assert sent > 0
    assert receive(ends[1])[0] == big, "and nothing of what went is harmed"
    ends[1].close()
    assert not ends[0].send(Leave())
    ends[0].close()
    assert not ends[0].send(Leave()), "closed by ourselves"


def test_a_packet_has_room_for_just_under_its_limit() -> None:
    room = LIMIT - len(encode(Dumped(""))) - 1
    assert len(encode(Dumped("x" * room))) == LIMIT - 1
    with pytest.raises(Bug, match="does not fit"):
        encode(Dumped("x" * (room + 1)))


def test_a_packet_that_was_cut_is_a_bug_and_its_descriptors_are_closed(ends: Ends) -> None:
    before = len(os.listdir("/proc/self/fd"))
    socket.send_fds(ends[0].sock, [b"x" * (LIMIT + 1)], [0, 1])
    with pytest.raises(Bug, match="cut short"):
        ends[1].receive(block=False)
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize(
    ("packet", "kind", "said"),
    [
        (b"noise", Bug, "no message"),
        (b"{}", Bug, "no message"),
        (b"[1, {}]", Bug, "no message"),
        (b'["Leave", 7]', Bug, "no message"),
        (b'["Leave"]', Bug, "no message"),
        (b'["Tea", {}]', Foreign, "another version of clusterd sent Tea"),
        (b'["Leave", {"now": 1}]', Foreign, "another version of clusterd sent Leave"),
        (b'["Hello", {"pid": 7}]', Foreign, "another version of clusterd sent Hello"),
    ],
)
def test_noise_is_a_bug_and_its_descriptors_are_closed(
    ends: Ends, packet: bytes, kind: type[Bug], said: str
) -> None:
    """What another version of clusterd sent is told from what is no message at all."""
    before = len(os.listdir("/proc/self/fd"))
    socket.send_fds(ends[0].sock, [packet], [0])
    with pytest.raises(Bug, match=said) as raised:
        ends[1].receive(block=False)
    assert type(raised.value) is kind
    assert len(os.listdir("/proc/self/fd")) == before
    ends[0].send(Leave())
    assert receive(ends[1])[0] == Leave(), "what comes after it is heard"


def test_messages_are_frozen_and_never_pickled() -> None:
    assert all(dataclasses.is_dataclass(kind) for kind in WIRE.values())
    with pytest.raises(dataclasses.FrozenInstanceError):
        Hello(1, 2, 3, 4).pid = 5  # type: ignore[misc]
    assert encode(Sockets([("/run/s", 5)])) == b'["Sockets", {"sockets": [["/run/s", 5]]}]'
    assert encode(Spawn(0, 1, 2, [])).startswith(b'["Spawn"')
