"""A WebSocket's client: the handshake judged, and echoes counted however they are cut."""

import random

import pytest
from websockets.frames import Frame, Opcode
from websockets.streams import StreamReader

from clusterd.bench.frames import Broken, Echoes, Message, agreed, handshake
from clusterd.bench.load import Request
from clusterd.bench.requests import rendered
from clusterd.bench.target import parse_target

TARGET = parse_target("ws://localhost:8000/echo")
GOOD = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: WebSocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: theirs\r\n\r\n"
)
SMALL = Message(5)


def server_frame(opcode: Opcode, data: bytes, fin: bool = True) -> bytes:
    """As the websockets package writes it."""
    return Frame(opcode, data, fin=fin).serialize(mask=False)


def unmasked(data: bytes) -> Frame:
    """As the websockets package reads what a client sends."""
    reader = StreamReader()
    reader.feed_data(data)
    parsing = Frame.parse(reader.read_exact, mask=True)
    try:
        next(parsing)
    except StopIteration as stop:
        frame: Frame = stop.value
        return frame
    raise AssertionError("the frame is not whole")


def test_the_handshake_asks_as_the_rfc_wants_it() -> None:
    wire = rendered(Request("/echo", headers=(("Origin", "http://x"),)), TARGET)
    one = handshake(wire)
    head = one.request.decode()
    assert head.startswith("GET /echo HTTP/1.1\r\nHost: localhost:8000\r\nOrigin: http://x\r\n")
    assert head.endswith("Sec-WebSocket-Version: 13\r\n\r\n")
    assert "\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" in head
    assert one.accept != handshake(wire).accept


def test_an_answer_is_awaited_until_it_is_whole() -> None:
    for cut in range(len(GOOD)):
        assert agreed(GOOD[:cut], b"theirs") is None
    assert agreed(GOOD, b"theirs") == b""
    assert agreed(GOOD + b"\x81", b"theirs") == b"\x81"


@pytest.mark.parametrize(
    ("answer", "kind", "text"),
    [
        (b"HTTP/1.1 403 Forbidden\r\n\r\n", "status 403", "refused"),
        (b"HTTP/1.1 200 OK\r\n\r\n", "status 200", "refused"),
        (GOOD.replace(b"theirs", b"other"), "protocol", "not a WebSocket's"),
        (GOOD.replace(b"WebSocket\r\n", b"h2c\r\n", 1), "protocol", "not a WebSocket's"),
        (GOOD[:-2] + b"Sec-WebSocket-Extensions: x\r\n\r\n", "protocol", "extension"),
        (b"SSH-2.0-OpenSSH_9\r\n", "protocol", "SSH"),
        (b"HTTP/2 200\r\n\r\n", "protocol", "no status line"),
        (b"HTTP/1.1 101" + b" " * 70000, "protocol", "no status line"),
    ],
)
def test_an_answer_that_is_no_websocket(answer: bytes, kind: str, text: str) -> None:
    with pytest.raises(Broken, match=text) as caught:
        agreed(answer, b"theirs")
    assert caught.value.kind == kind


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, 65536])
def test_messages_are_frames_that_a_server_understands(size: int) -> None:
    message = Message(size)
    assert len(message.payload) == size
    for frame in message.frames[:3]:
        assert unmasked(frame) == Frame(Opcode.TEXT, message.payload)
    assert len(set(message.frames)) == len(message.frames)
    assert message.whole == server_frame(Opcode.TEXT, message.payload)


def test_long_messages_take_no_more_memory_than_short_ones() -> None:
    assert len(Message(65536).frames) == 64
    assert len(Message(1_000_000).frames) == 4
    assert len(Message(5_000_000).frames) == 1


@pytest.mark.parametrize("size", [0, 5, 126, 70000])
def test_echoes_count_however_they_are_cut(size: int) -> None:
    message = Message(size)
    half = size // 2
    stream = b"".join(
        [
            message.whole,
            server_frame(Opcode.BINARY, message.payload),
            server_frame(Opcode.TEXT, message.payload[:half], fin=False),
            server_frame(Opcode.PING, b"hi"),
            server_frame(Opcode.CONT, message.payload[half:]),
            server_frame(Opcode.PONG, b""),
            message.whole,
        ]
    )
    roll = random.Random(1)
    for largest in (1, 2, 7, len(stream)) if size < 1000 else (1000, len(stream)):
        echoes, at, count = Echoes(message), 0, 0
        while at < len(stream):
            cut = roll.randint(1, largest)
            count += echoes.feed(stream[at : at + cut])
            at += cut
        assert count == 4
        assert unmasked(echoes.owed) == Frame(Opcode.PONG, b"hi")


@pytest.mark.parametrize(
    ("data", "kind", "text"),
    [
        (server_frame(Opcode.TEXT, b"other"), "protocol", "something else"),
        (b"\xc1\x05the q", "protocol", "extension"),
        (server_frame(Opcode.CONT, b"the q"), "protocol", "no place"),
        (server_frame(Opcode.TEXT, b"t", fin=False) * 2, "protocol", "no place"),
        (SMALL.frames[0], "protocol", "masks"),
        (server_frame(Opcode.CLOSE, b"\x03\xf4gone"), "closed", "1012.*gone"),
        (server_frame(Opcode.CLOSE, b"\x03"), "closed", "malformed"),
        (server_frame(Opcode.CLOSE, b""), "closed", "closed the WebSocket"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",  # a mask differs in each process
)
def test_what_is_no_echo_ends_the_connection(data: bytes, kind: str, text: str) -> None:
    with pytest.raises(Broken, match=text) as caught:
        Echoes(SMALL).feed(data)
    assert caught.value.kind == kind


@pytest.mark.parametrize(
    ("before", "text"),
    [
        (server_frame(Opcode.TEXT, b"t", fin=False), "no place"),
        (server_frame(Opcode.BINARY, SMALL.whole)[:2], "something else"),
    ],
)
def test_what_looks_like_an_echo_within_something_else_is_none(before: bytes, text: str) -> None:
    echoes = Echoes(SMALL)
    assert echoes.feed(before) == 0
    with pytest.raises(Broken, match=text):
        echoes.feed(SMALL.whole)
