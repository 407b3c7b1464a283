"""What a hostile client's frames may cost, and what is written to any client."""

import tracemalloc
import zlib
from collections.abc import Callable

import pytest
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.protocol import OPEN

from clusterd.wire import websocket as wire
from clusterd.wire.upgrade import COMPRESSION
from tests.unit.wire.frames import Ear, frame, heard

CONT, TEXT, BINARY, PING = 0, 1, 2, 9
FINAL, RSV1 = 0x80, 0x40
MB = 2**20


def peak(work: Callable[[], object]) -> int:
    """Bytes that were allocated at once, at most."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_bomb_is_stopped_while_it_is_decompressed() -> None:
    packer = zlib.compressobj(wbits=-12)
    bomb = packer.compress(bytes(64 * MB)) + packer.flush(zlib.Z_SYNC_FLUSH)
    data = frame(FINAL | RSV1 | BINARY, bomb[:-4])
    answers: list[list[object]] = []
    assert peak(lambda: answers.append(heard(data, limit=MB, compresses=True))) < 3 * MB
    assert answers == [[1009]]


def test_many_tiny_fragments_cost_what_their_bytes_cost() -> None:
    """HARDNESS: an object each would be a hundred times that."""
    ear = Ear(limit=MB)
    ear.take(frame(TEXT, b"a"))
    many = frame(CONT, b"b") * 1000 + frame(CONT) * 1000

    def feed() -> None:
        for _ in range(10):
            ear.take(many)

    assert peak(feed) < 4 * len(many)
    assert ear.take(frame(FINAL | CONT)) == ["a" + "b" * 10_000]


def test_endless_fragments_end_at_the_limit() -> None:
    ear = Ear(limit=1000)
    ear.take(frame(TEXT, b"a"))
    for _ in range(2000):
        ear.take(frame(CONT, b"b"))
    assert ear.heard == [1009]


def test_a_huge_length_is_refused_before_its_payload() -> None:
    assert heard(b"\x82\xff" + (1 << 40).to_bytes(8)) == [1009]
    assert heard(b"\x89\xfe\x10\x00") == [1002]


def test_without_a_limit_there_is_none() -> None:
    assert heard(frame(FINAL | BINARY, bytes(MB)), limit=0) == [bytes(MB)]
    packer = zlib.compressobj(wbits=-12)
    data = packer.compress(bytes(MB)) + packer.flush(zlib.Z_SYNC_FLUSH)
    assert heard(frame(FINAL | RSV1 | BINARY, data[:-4]), limit=0, compresses=True) == [bytes(MB)]


def test_a_long_message_in_many_pieces_is_gathered_in_one_place() -> None:
    """A copy of all that came before for each piece would be quadratic."""
    ear = Ear(limit=MB)
    data = frame(FINAL | BINARY, bytes(MB))
    ear.feed(data[:1000])
    gathered = ear._buffer
    for at in range(1000, len(data) - 1000, 1000):
        ear.feed(data[at : at + 1000])
        assert ear._buffer is gathered
    assert ear.take(data[at + 1000 :]) == [bytes(MB)]
    assert not ear._buffer


@pytest.mark.parametrize("size", [0, 1, 125, 126, 255, 256, 65535, 65536])
@pytest.mark.parametrize("is_text", [False, True])
@pytest.mark.parametrize("compresses", [False, True])
def test_what_is_written_is_what_a_client_reads(size: int, is_text: bool, compresses: bool) -> None:
    data = b"abcdefg\n" * (size // 8) + b"x" * (size % 8)
    ear = Ear(compresses=compresses)
    client = ClientProtocol("ws://a/", state=OPEN)  # type: ignore[arg-type]
    if compresses:
        _, mirror = COMPRESSION.process_request_params([], [])
        client.extensions = [mirror]
    for _ in range(2):
        first, payload = ear.deflated(wire.WHOLE_TEXT if is_text else wire.WHOLE_BINARY, data)
        assert bool(first & RSV1) is (compresses and len(data) >= wire.WORTH)
        client.receive_data(wire.head(first, len(payload)) + payload)
        (got,) = client.events_received()
        assert isinstance(got, Frame)
        assert got.opcode == (TEXT if is_text else BINARY)
        assert bytes(got.data) == data


def test_control_frames_that_are_written() -> None:
    client = ClientProtocol("ws://a/", state=OPEN)  # type: ignore[arg-type]
    client.receive_data(wire.pong(b"abc") + wire.PING_FRAME + wire.close(1012, "é"))
    pong, ping, close = client.events_received()
    assert isinstance(pong, Frame)
    assert isinstance(ping, Frame)
    assert (pong.opcode, pong.data, ping.opcode) == (Opcode.PONG, b"abc", Opcode.PING)
    assert client.close_rcvd is not None
    assert (client.close_rcvd.code, client.close_rcvd.reason) == (1012, "é")
    assert wire.close(wire.NO_CODE) == b"\x88\x00"
    assert isinstance(close, Frame)


@pytest.mark.parametrize(
    ("code", "reason"),
    [(999, ""), (1004, ""), (1006, ""), (1015, ""), (5000, ""), (1000, "é" * 62)],
)
def test_a_close_that_cannot_be_sent(code: int, reason: str) -> None:
    with pytest.raises(ValueError, match=r"code|longer"):
        wire.close(code, reason)
