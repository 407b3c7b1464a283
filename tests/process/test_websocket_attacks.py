"""Hostile WebSocket clients against a real cluster: each gets its code, and harms nobody else."""

import socket
import zlib
from collections.abc import Iterator

import pytest
from websockets.client import ClientProtocol
from websockets.protocol import OPEN
from websockets.sync.client import connect

from tests.support.server import LIMIT, Server, serving
from tests.unit.wire.frames import closing, frame
from tests.unit.wire.test_upgrade import REFUSED
from tests.unit.wire.test_websocket import BAD, ROOM, valid_codes

FINAL, DEFLATED, CONT, TEXT, BINARY, PING = 0x80, 0x40, 0, 1, 2, 9
SWITCH = b"GET /echo HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
KEY = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
COMPRESSED = b"Sec-WebSocket-Extensions: permessage-deflate\r\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One worker, which must outlive all of them."""
    place = tmp_path_factory.mktemp("attacks")
    limit = ("--websocket-max-size", str(ROOM))
    with serving(place, "sockets:app", *limit, workers=1) as server:
        yield server
        server.rest_so_far()
        assert not server.find("exited"), server.history()


def answer(server: Server, *pieces: bytes) -> bytes:
    """Everything that the server says to these bytes, until it closes the connection."""
    with socket.create_connection(server.address, LIMIT) as sock:
        for piece in pieces:
            sock.sendall(piece)
        sock.shutdown(socket.SHUT_WR)
        data = b""
        while piece := sock.recv(65536):
            data += piece
    return data


def code_of(server: Server, *pieces: bytes, more: bytes = b"") -> int:
    """The close code that frames earn."""
    head, _, frames = answer(server, SWITCH + KEY + more + b"\r\n", *pieces).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101 "), head
    client = ClientProtocol("ws://a/", state=OPEN)  # type: ignore[arg-type]
    client.receive_data(frames)
    assert client.close_rcvd is not None, frames[:100]
    return int(client.close_rcvd.code)


@pytest.mark.parametrize("name", BAD)
def test_bad_frames(server: Server, name: str) -> None:
    data, code = BAD[name]
    assert code_of(server, data) == code


def test_close_codes(server: Server) -> None:
    """What may not be sent is answered with 1002, everything else with itself."""
    valid = valid_codes()
    for code in (0, 999, *range(1000, 1017), 1100, 2000, 2999, 3000, 3999, 4000, 4999, 5000, 65535):
        assert code_of(server, closing(code)) == (code if code in valid else 1002)


def test_bombs(server: Server) -> None:
    packer = zlib.compressobj(wbits=-12)
    bomb = packer.compress(bytes(50 * 2**20)) + packer.flush(zlib.Z_SYNC_FLUSH)
    assert code_of(server, frame(FINAL | DEFLATED | BINARY, bomb[:-4]), more=COMPRESSED) == 1009
    assert code_of(server, frame(DEFLATED | BINARY, bomb), frame(CONT), more=COMPRESSED) == 1009


def test_hundreds_of_thousands_of_fragments(server: Server) -> None:
    """As many as fit the limit are one message; one more is too much."""
    tiny = frame(CONT, b"x") * ROOM
    assert code_of(server, frame(TEXT), frame(CONT) * 200_000, frame(FINAL), closing(1000)) == 1000
    assert code_of(server, frame(TEXT), tiny, frame(CONT) * 200_000, frame(CONT, b"x")) == 1009


def test_a_flood_of_pings(server: Server) -> None:
    assert code_of(server, frame(FINAL | PING, b"x" * 125) * 20_000, closing(1000)) == 1000


@pytest.mark.parametrize("name", REFUSED)
def test_bad_handshakes(server: Server, name: str) -> None:
    headers, status = REFUSED[name]
    lines = b"".join(b"%b: %b\r\n" % pair for pair in headers)
    said = answer(server, SWITCH + lines + b"\r\n")
    assert said.startswith(b"HTTP/1.1 %d " % status), said
    assert b"\x88" not in said, "a close frame on what never became a WebSocket"


def test_frames_behind_a_refused_handshake_are_not_read(server: Server) -> None:
    said = answer(server, SWITCH + b"\r\n", frame(FINAL | TEXT, b"x") * 1000)
    assert said.startswith(b"HTTP/1.1 4")


def test_others_are_served_all_the_same(server: Server) -> None:
    with connect(f"ws://{server.address[0]}:{server.address[1]}/echo") as client:
        client.send("still here")
        assert client.recv(LIMIT) == "still here"
