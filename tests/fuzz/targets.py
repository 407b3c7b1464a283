"""What is fuzzed: for each protocol a corpus to damage, words to strew in, and how it is begun."""

import struct
from collections.abc import Callable
from dataclasses import dataclass

from clusterd.worker.connection import Connection
from clusterd.worker.link import Link
from clusterd.worker.preamble import expecting_header
from clusterd.worker.server import Server
from tests.conformance.malformed import TABLES
from tests.conformance.malformed.legal import GOOD
from tests.support import http2
from tests.unit.wire.frames import closing, frame
from tests.unit.worker.sockets import shake

MOST = 4096  # bytes of a stream worth damaging


@dataclass(frozen=True)
class Target:
    """One protocol. `begin` comes first, and is itself damaged only now and then."""

    name: str
    corpus: tuple[bytes, ...]
    words: tuple[bytes, ...] = ()
    begin: bytes = b""
    make: Callable[[Server], Link] = Connection
    # Answers are HTTP/1's, so that their statuses must not depend on how the stream was cut.
    is_plain: bool = False


def http1() -> Target:
    good = [row.data for row in GOOD]
    bad = [row.data for name, table in TABLES.items() if name != "controls" for row in table[::7]]
    words = (
        *(b"\r\n", b"\r\n\r\n", b"Host: b\r\n", b"Content-Length: 5\r\n", b"Content-Length: 0\r\n"),
        *(
            b"Transfer-Encoding: chunked\r\n",
            b"Connection: close\r\n",
            b"Connection: keep-alive\r\n",
        ),
        *(b"Expect: 100-continue\r\n", b"Upgrade: websocket\r\n", b"Connection: Upgrade\r\n"),
        *(
            b"0\r\n\r\n",
            b"5\r\nhello\r\n",
            b"HTTP/1.0",
            b"HTTP/2.0",
            b"GET / HTTP/1.1\r\n",
            b"chunked",
        ),
        *(b"Sec-WebSocket-Version: 13\r\n", b"X-Forwarded-For: 1.2.3.4\r\n"),
    )
    corpus = tuple(data for data in good + bad if len(data) < MOST)
    return Target("http1", corpus, words, is_plain=True)


def websocket() -> Target:
    corpus = (
        frame(0x81, b"hello"),
        frame(0x82, bytes(range(256))),
        frame(0x82, b"x" * 70_000)[:MOST],
        frame(0x01, b"one ") + frame(0x00, b"two ") + frame(0x80, b"three"),
        frame(0x01, b"\xe2\x82") + frame(0x80, b"\xac"),
        frame(0x89, b"ping") + frame(0x8A, b"pong"),
        frame(0x01, b"a") + frame(0x89) + frame(0x80, b"b"),
        frame(0x81, b"\xff\xfe"),
        frame(0xC1, b"\xf2\x48\xcd\xc9\xc9\x07\x00"),
        frame(0xC1, bytes(40)),
        closing(1000, b"bye"),
        closing(1005),
        frame(0x88, b"\x03"),
        *(frame(first, b"x") for first in (0x83, 0x8B, 0xA1, 0x91, 0x09, 0x08)),
        frame(0x81, b"x", length=b"\xff" + struct.pack("!Q", 1 << 63)),
        frame(0x81, b"x", length=b"\xfe\x00\x01"),
        b"\x81\x05hello",
    )
    offers = "Sec-WebSocket-Extensions: permessage-deflate"
    return Target("websocket", corpus, corpus[:3], shake("/", offers))


def over_http2() -> Target:
    asked = http2.asked()
    corpus = (
        http2.get(1),
        http2.get(1) + http2.get(3) + http2.get(5),
        http2.get(1, "/a?b", ("cookie", "a"), ("cookie", "b"), ("te", "trailers")),
        http2.post(1) + http2.data(1, b"hello") + http2.data(1, b"", end=True),
        http2.post(1, ("content-length", "5")) + http2.data(1, b"hello", end=True),
        http2.post(1) + http2.data(1, b"x") + http2.frame(1, 5, 1, http2.block(("x", "y"))),
        http2.post(1) + http2.reset(1) + http2.get(3),
        http2.frame(1, 1, 1, asked[:9]) + http2.frame(9, 4, 1, asked[9:]),
        http2.frame(1, 0, 1, asked) + http2.frame(9, 0, 1) * 20 + http2.frame(9, 4, 1),
        http2.frame(1, 0x2D, 1, b"\x02\0\0\0\0\x10" + asked + b"\0\0"),
        http2.frame(
            1, 5, 1, http2.encoded((":method", "GET"), (":path", "/"), (":scheme", "http"))
        ),
        http2.settings((1, 0), (3, 100), (4, 65535), (5, 16384), (6, 1000)),
        http2.settings((4, 0)) + http2.get(1) + http2.window(1, 100) + http2.window(0, 1),
        http2.settings(flags=1) + http2.ping() + http2.ping(flags=1),
        http2.window(0, 2**31 - 1) + http2.window(1, 0),
        http2.goaway() + http2.frame(2, 0, 1, bytes(5)) + http2.frame(0xBE, 7, 9, b"?"),
        http2.frame(5, 4, 1, b"\0\0\0\2" + asked),
        (http2.post(1) + http2.reset(1)) * 5,
    )
    return Target("http2", corpus, corpus[-8:], http2.START)


def proxy() -> Target:
    second = b"\r\n\r\n\0\r\nQUIT\n"
    v4 = b"\xc0\0\2\7\xc0\0\2\1" + struct.pack("!HH", 1234, 80)
    corpus = (
        b"PROXY TCP4 192.0.2.7 192.0.2.1 1234 80\r\n",
        b"PROXY TCP6 2001:db8::7 2001:db8::1 1234 443\r\n",
        b"PROXY UNKNOWN\r\n",
        second + b"\x21\x11" + struct.pack("!H", 12) + v4,
        second + b"\x21\x21" + struct.pack("!H", 36) + bytes(36),
        second + b"\x20\x00\0\0",
        second + b"\x21\x11" + struct.pack("!H", 19) + v4 + b"\x04\0\4abcd",
        second + b"\x21\x31" + struct.pack("!H", 216) + bytes(216),
    )
    after = GOOD[0].data
    return Target(
        "proxy",
        (*corpus, *(each + after for each in corpus), after),
        (b"PROXY ", b"TCP4 ", b"65536", second),
        make=lambda server: expecting_header(server, None)(),
    )


TARGETS = {target.name: target for target in (http1(), websocket(), over_http2(), proxy())}
