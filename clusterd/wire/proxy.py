"""The PROXY protocol, versions 1 and 2: who connects, told before the first byte of the client's.

After "The PROXY protocol" by Willy Tarreau (haproxy.org, doc/proxy-protocol.txt); § are its own.
Every byte is judged, since the header tells whom to believe: what a proxy would not write is
refused. Nothing here knows where bytes come from.
"""

import ipaddress
import re
import struct
from typing import NamedTuple

from clusterd.core.errors import PeerError

V1 = b"PROXY "
V1_LONGEST = 107  # §2.1, the line's end included
V2 = b"\r\n\r\n\0\r\nQUIT\n"
V2_HEAD = struct.Struct("!12sBBH")  # signature, version and command, family, bytes that follow
LONGEST = 4096  # bytes of a block: several times what proxies send, certificates' names included

# §2.1. One blank between words; numbers without leading zeros.
LINE = re.compile(
    rb"PROXY (?:UNKNOWN[\x20-\x7e]*"
    rb"|(TCP[46]) ([0-9A-Fa-f:.]{2,45}) ([0-9A-Fa-f:.]{2,45})"
    rb" (0|[1-9][0-9]{0,4}) (0|[1-9][0-9]{0,4}))"
)
LOCAL, PROXY = 0, 1
ADDRESSES = {0x11: struct.Struct("!4s4sHH"), 0x21: struct.Struct("!16s16sHH")}  # over TCP
# Bytes of the addresses in other families: unspecified, datagrams over IPv4 and IPv6, Unix sockets.
OTHERS = {0x00: 0, 0x12: 12, 0x22: 36, 0x31: 216, 0x32: 216}
TLV = struct.Struct("!BH")
CRC32C = 0x03
CRC = struct.Struct("!I")

Address = tuple[str, int]


class Told(NamedTuple):
    """What a header says. `ends`: the two addresses, or None for those of the connection itself.

    None is said by LOCAL (the proxy speaks for itself, as in a health check) and by UNKNOWN, which
    the protocol wants to be taken "as if there were no header".
    """

    size: int  # of the header in bytes
    ends: tuple[Address, Address] | None  # the client's, and the one it connected to


def decode(data: bytes) -> Told | None:
    """The header that a connection begins with; None: it has not come as a whole.

    None is also a promise that every byte so far belongs to it. Raises PeerError for anything
    else.
    """
    if data[: len(V2)] == V2[: len(data)]:
        return _decode_v2(data)
    if data[: len(V1)] == V1[: len(data)]:
        return _decode_v1(data)
    raise PeerError(400, "there is no PROXY header")


def _decode_v1(data: bytes) -> Told | None:
    end = data.find(b"\r", 0, V1_LONGEST)
    if end < 0 or end + 1 == len(data) < V1_LONGEST:
        if len(data) >= V1_LONGEST:
            raise PeerError(400, "the PROXY line is too long")
        return None
    match = LINE.fullmatch(data, 0, end)
    if match is None or data[end : end + 2] != b"\r\n" or end + 2 > V1_LONGEST:
        raise PeerError(400, "the PROXY line is malformed")
    family, *ends = match.groups()
    if family is None:
        return Told(end + 2, None)
    version = 4 if family == b"TCP4" else 6
    client, server, client_port, server_port = (text.decode("ascii") for text in ends)
    pair = (_address(client, client_port, version), _address(server, server_port, version))
    return Told(end + 2, pair)


def _address(host: str, port: str, version: int) -> Address:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        raise PeerError(400, "the PROXY line has a malformed address") from None
    if address.version != version or int(port) > 65535:
        raise PeerError(400, "the PROXY line has a malformed address")
    return _plain(address), int(port)


def _decode_v2(data: bytes) -> Told | None:
    if len(data) < V2_HEAD.size:
        return None
    _, version, family, length = V2_HEAD.unpack_from(data)
    command = version & 0xF
    if version >> 4 != 2 or command not in (LOCAL, PROXY):
        raise PeerError(400, "the PROXY block has an unknown version or command")
    size = V2_HEAD.size + length
    if size > LONGEST:
        raise PeerError(400, "the PROXY block is too long")
    if len(data) < size:
        return None
    layout = ADDRESSES.get(family)
    taken = layout.size if layout is not None else OTHERS.get(family)
    if command == LOCAL and length < (taken or 0):
        taken = 0  # §2.2: whatever LOCAL says of addresses is to be discarded
    if taken is None or length < taken:
        raise PeerError(400, "the PROXY block has an unknown family, or no room for its addresses")
    _judge_extras(data[:size], V2_HEAD.size + taken)
    if command == LOCAL or layout is None:
        return Told(size, None)
    client, server, client_port, server_port = layout.unpack_from(data, V2_HEAD.size)
    return Told(size, ((_host(client), client_port), (_host(server), server_port)))


def _host(packed: bytes) -> str:
    return _plain(ipaddress.ip_address(packed))


def _plain(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    """As text; an IPv4 address that was written as an IPv6 one is one of IPv4."""
    return str(getattr(address, "ipv4_mapped", None) or address)


def _judge_extras(block: bytes, at: int) -> None:
    """Step over what follows the addresses (§2.2); the checksum, where there is one, must hold."""
    while at < len(block):
        if at + TLV.size > len(block):
            raise PeerError(400, "the PROXY block ends in the middle")
        kind, length = TLV.unpack_from(block, at)
        at += TLV.size
        if at + length > len(block):
            raise PeerError(400, "the PROXY block ends in the middle")
        if kind == CRC32C:
            if length != CRC.size:
                raise PeerError(400, "the PROXY block has a malformed checksum")
            bare = block[:at] + bytes(length) + block[at + length :]
            if crc32c(bare) != CRC.unpack_from(block, at)[0]:
                raise PeerError(400, "the PROXY block has a wrong checksum")
        at += length


def _table() -> tuple[int, ...]:
    """Of the Castagnoli polynomial, reflected (RFC 3720 appendix B.4)."""
    rows = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        rows.append(value)
    return tuple(rows)


TABLE = _table()


def crc32c(data: bytes) -> int:
    """The checksum of §2.2.3, which zlib does not have."""
    value = 0xFFFFFFFF
    for byte in data:
        value = value >> 8 ^ TABLE[(value ^ byte) & 0xFF]
    return value ^ 0xFFFFFFFF
