"""Requests with a body that come in one piece take a short way, to the same events."""

from typing import Any

import pytest

from clusterd.core.errors import PeerError
from clusterd.wire.limits import Limits
from tests.unit.wire.test_request import Recorder

BODY = b"0123456789" * 3
LONG = b"X-Long: %b\r\n" % (b"x" * 4000)


def post(*lines: bytes, version: bytes = b"1.1", length: bytes = b"30") -> bytes:
    head = [b"POST /p HTTP/" + version, b"Host: a", b"Content-Length: " + length, *lines, b"", b""]
    return b"\r\n".join(head) + BODY


def outcome(limits: Limits, *pieces: bytes) -> Any:
    reader = Recorder(limits)
    try:
        for piece in pieces:
            reader.take(piece)
    except PeerError as error:
        return error.status, reader.events
    return reader.events


@pytest.mark.parametrize(
    "request_",
    [
        post(),
        post(b"Content-Type: application/json"),
        post(b"Connection: close"),
        post(b"Connection: Keep-Alive"),
        post(b"Expect: 100-continue"),
        post(b"Host: b"),
        post(b"Content-Length: 30"),
        post(b"Transfer-Encoding: chunked"),
        post(b"Upgrade: websocket", b"Connection: upgrade"),
        post(b"X-Forwarded-For: 192.0.2.1"),
        post(version=b"1.0"),
        post(length=b"0"),
        post(length=b"+30"),
        post(length=b"3_0"),
        post(length=b" 30 "),
        post(length=b"\xb2"),
        post(length=b"31"),
        post(length=b"9" * 18),
        post(length=b"0" * 17 + b"30"),
        post(length=b"29") + post(),
        post().replace(b"POST /p", b"POST http://b/p"),
        post().replace(b"Host: a", b"Via: a"),
        post().replace(b"Content-Length: ", b"content-length:"),
        post().replace(b"Content-Length: ", b"CONTENT-LENGTH: "),
        b"\r\n" + post(),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
)
@pytest.mark.parametrize("limits", [Limits(), Limits(body=29), Limits(body=30)])
def test_in_one_piece_or_in_many_is_the_same(request_: bytes, limits: Limits) -> None:
    """The long way, byte by byte, is the measure; also for what follows."""
    stream = request_ + post()
    assert outcome(limits, stream) == outcome(limits, *(bytes([byte]) for byte in stream))


def test_a_long_head_leaves_nothing_behind() -> None:
    """After one that had to be measured, the next is judged from its beginning."""
    reader = Recorder()
    for _ in range(2):
        reader.take(b"GET / HTTP/1.1\r\nHost: a\r\n%b\r\n" % (LONG * 3))
    assert len(reader.events) == 2
    with pytest.raises(PeerError):
        reader.take(b"GET / HTTP/1.1\nHost: a\r\n")  # LF alone: refused before the head's end
