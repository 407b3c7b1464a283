"""The PROXY protocol: every split of every header, and nothing that a proxy would not write."""

import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clusterd.core.errors import PeerError
from clusterd.wire.proxy import CRC32C, LONGEST, V1_LONGEST, V2, Told, crc32c, decode

REST = b"GET / HTTP/1.1\r\n"
ENDS = (("192.0.2.7", 4711), ("198.51.100.1", 443))
ENDS6 = (("2001:db8::7", 4711), ("2001:db8::1", 443))
TCP4 = (
    socket.inet_aton("192.0.2.7") + socket.inet_aton("198.51.100.1") + struct.pack(">HH", 4711, 443)
)
TCP6 = b"".join(socket.inet_pton(socket.AF_INET6, host) for host, _ in ENDS6)
TCP6 += struct.pack(">HH", 4711, 443)


def block(body: bytes, family: int = 0x11, command: int = 0x21, size: int | None = None) -> bytes:
    """Version 2, as its §2.2 draws it."""
    return V2 + struct.pack(">BBH", command, family, len(body) if size is None else size) + body


def extra(kind: int, value: bytes) -> bytes:
    return struct.pack(">BH", kind, len(value)) + value


def checked(body: bytes, family: int = 0x11) -> bytes:
    """With its checksum."""
    bare = block(body + extra(CRC32C, bytes(4)), family)
    return bare[:-4] + struct.pack(">I", crc32c(bare))


GOOD = [
    (b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\r\n", ENDS),
    (b"PROXY TCP4 192.0.2.7 198.51.100.1 0 65535\r\n", (("192.0.2.7", 0), ("198.51.100.1", 65535))),
    (b"PROXY TCP6 2001:db8::7 2001:DB8::1 4711 443\r\n", ENDS6),
    (b"PROXY TCP6 ::ffff:192.0.2.7 ::ffff:198.51.100.1 4711 443\r\n", ENDS),
    (b"PROXY UNKNOWN\r\n", None),
    (b"PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n", None),
    (block(TCP4), ENDS),
    (block(TCP6, 0x21), ENDS6),
    (block(TCP4 + extra(0x01, b"h2") + extra(0x04, bytes(9)) + extra(0x20, bytes(300))), ENDS),
    (block(b"", 0x00), None),
    (block(extra(0x04, b""), 0x00), None),
    (block(TCP4, 0x12), None),
    (block(bytes(216), 0x31), None),
    (block(b"", 0x00, 0x20), None),
    (block(b"", 0x11, 0x20), None),  # LOCAL: what it says of addresses is discarded
    (block(TCP4, 0x11, 0x20), None),
    (checked(TCP4), ENDS),
    (checked(TCP6 + extra(0x02, b"a.example"), 0x21), ENDS6),
]


@pytest.mark.parametrize(("header", "ends"), GOOD)
def test_a_header_comes_out_the_same_however_it_is_torn(header: bytes, ends: object) -> None:
    for size in range(len(header)):
        assert decode(header[:size]) is None
    assert decode(header) == Told(len(header), ends)  # type: ignore[arg-type]
    assert decode(header + REST) == Told(len(header), ends)  # type: ignore[arg-type]


BAD = [
    b"GET / HTTP/1.1\r\n",
    b"\r\nPROXY TCP4 192.0.2.7 198.51.100.1 4711 443\r\n",
    b"proxy TCP4 192.0.2.7 198.51.100.1 4711 443\r\n",
    b"PROXY  TCP4 192.0.2.7 198.51.100.1 4711 443\r\n",
    b"PROXY TCP4  192.0.2.7 198.51.100.1 4711 443\r\n",
    b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 443 \r\n",
    b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\n\r\n",
    b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\rX",
    b"PROXY TCP4 192.0.2.7 198.51.100.1 4711\r\n",
    b"PROXY TCP4 192.0.2.7 198.51.100.1 04711 443\r\n",
    b"PROXY TCP4 192.0.2.7 198.51.100.1 +4711 443\r\n",
    b"PROXY TCP4 192.0.2.7 198.51.100.1 65536 443\r\n",
    b"PROXY TCP4 192.0.2.007 198.51.100.1 4711 443\r\n",
    b"PROXY TCP4 2001:db8::7 2001:db8::1 4711 443\r\n",
    b"PROXY TCP6 192.0.2.7 198.51.100.1 4711 443\r\n",
    b"PROXY TCP6 fe80::1%eth0 2001:db8::1 4711 443\r\n",
    b"PROXY UDP4 192.0.2.7 198.51.100.1 4711 443\r\n",
    b"PROXY UNKNOWN \x00\r\n",
    b"PROXY UNKNOWN " + b"x" * V1_LONGEST + b"\r\n",
    b"PROXY \r\n",
    V2[:-1] + b"X",
    block(TCP4, command=0x11),  # version 1
    block(TCP4, command=0x22),  # neither LOCAL nor PROXY
    block(TCP4, family=0x41),
    block(TCP4, family=0x13),
    block(TCP4[:-1]),
    block(TCP4, family=0x21),
    block(bytes(100), family=0x31),
    block(TCP4 + b"\x01"),
    block(TCP4 + extra(0x01, b"h2")[:-1]),
    block(TCP4 + b"\x01\xff\xff"),
    block(TCP4 + extra(CRC32C, bytes(4))),
    block(TCP4 + extra(CRC32C, bytes(3))),
    checked(TCP4)[:-1] + b"\x00",
    block(b"", size=LONGEST),
]


@pytest.mark.parametrize("header", BAD)
def test_what_no_proxy_would_write_is_refused(header: bytes) -> None:
    with pytest.raises(PeerError):
        decode(header)


@pytest.mark.parametrize("header", BAD)
def test_it_is_refused_however_it_is_torn(header: bytes) -> None:
    """And never taken: each piece is either too short to tell, or refused."""
    for size in range(len(header)):
        try:
            assert decode(header[:size]) is None
        except PeerError:
            break
    with pytest.raises(PeerError):
        decode(header + REST)


def test_a_line_of_the_greatest_length_is_taken_and_one_byte_more_is_not() -> None:
    line = b"PROXY UNKNOWN".ljust(V1_LONGEST - 2, b"x") + b"\r\n"
    assert decode(line) == Told(V1_LONGEST, None)
    with pytest.raises(PeerError):
        decode(line[:-2] + b"x\r\n")
    with pytest.raises(PeerError):
        decode(b"PROXY UNKNOWN".ljust(V1_LONGEST, b"x"))


@given(st.binary(max_size=300))
def test_nothing_else_ever_comes_out(data: bytes) -> None:
    for text in (data, V2 + data, b"PROXY " + data):
        try:
            told = decode(text)
        except PeerError:
            continue
        assert told is None or told.size <= len(text)


def test_the_checksum_is_that_of_rfc_3720() -> None:
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(b"123456789") == 0xE3069283
