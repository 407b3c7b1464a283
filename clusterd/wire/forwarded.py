"""What proxies tell of the client, in X-Forwarded-For, -Proto, -Host and -Port or in Forwarded.

Each proxy adds what it saw at the right end, and whatever a client forged is further left. So a
list is read from the right: an address that is a trusted proxy of its own is stepped over, and the
first that is not is the client. Where there is none among as many members as we read, the client is
unknown: neither a member further left, nor the last proxy. What makes no sense is ignored, as if it
had not been said. Of the scheme, the host and the port the right-most word counts, which is the
nearest proxy's.

Values are those of all lines of a name, joined by commas.
"""

import ipaddress
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from clusterd.core.errors import PeerError
from clusterd.wire.target import check_host

HOPS = 32  # members of a list that are read: no chain of proxies is that long, but a forged one is
LONGEST = 1024  # bytes of an element of Forwarded: addresses, a host name of 253, and much to spare
PORTS = {"http": 80, "ws": 80, "https": 443, "wss": 443}
SCHEMES = {b"http": "http", b"ws": "http", b"https": "https", b"wss": "https"}

# RFC 7239 §4: pairs of a token and a token or quoted string, parted by semicolons. Blanks are
# allowed nowhere; after a semicolon many write one. Before it too, the pattern would be quadratic.
_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_QUOTED = rb'"(?:[^"\\]|\\.)*"'
_PAIR = rb"(" + _TOKEN + rb")=(" + _TOKEN + rb"|" + _QUOTED + rb")"
PAIR = re.compile(_PAIR)
ELEMENT = re.compile(rb"(?:" + _PAIR + rb")?(?:;[ \t]*(?:" + _PAIR + rb")?)*")
# RFC 7239 §6: an address, and a port that may be a name made up like the address itself.
NODE = re.compile(
    rb"(?:([0-9.]{7,15})|\[([0-9A-Fa-f:.]{2,45})\])(?::(?:([0-9]{1,5})|_[A-Za-z0-9._-]+))?"
)
NAMELESS = re.compile(rb"(?:unknown|_[A-Za-z0-9._-]+)(?::(?:[0-9]{1,5}|_[A-Za-z0-9._-]+))?")

Client = tuple[str, int] | None
IsTrusted = Callable[[str], bool]  # whether a host is a proxy whose word is taken


class Told(NamedTuple):
    """What was said, and made sense."""

    knows: bool = False  # of the client something was said
    client: Client = None  # its address and port, 0 for none; None: it is kept secret
    scheme: str | None = None  # http or https
    host: bytes | None = None  # as it stands in Host
    port: int | None = None


NOTHING = Told()


def unheard(values: list[bytes], is_trusted: IsTrusted) -> Told:
    """Nothing is read."""
    return NOTHING


def x_forwarded(values: list[bytes], is_trusted: IsTrusted) -> Told:
    """Read X-Forwarded-For, -Proto, -Host and -Port, empty where they are missing.

    There is no standard; what is read is what nginx, HAProxy, Envoy and the clouds write.
    """
    hops, proto, host, port = values
    scheme = SCHEMES.get(_last(proto).lower())
    knows, client = _client(hops, is_trusted)
    return Told(knows, client, scheme, _host(_last(host)), _port(_last(port)))


def forwarded(values: list[bytes], is_trusted: IsTrusted) -> Told:
    """Read Forwarded (RFC 7239).

    Scheme and host are of the element that tells of the client: the proxy it came to wrote that.
    """
    (value,) = values
    said: dict[bytes, bytes] = {}
    knows, client = False, None
    for element in _elements(value):
        node = _node(element.get(b"for", b""))
        if node is None:
            said = said or element
            break
        said = element
        knows, client = True, node[1]
        if client is None or not is_trusted(client[0]):
            break
    else:
        if knows and _is_too_long(value):
            client = None
    scheme = SCHEMES.get(said.get(b"proto", b"").lower())
    return Told(knows, client, scheme, _host(said.get(b"host", b"")))


def with_port(host: bytes, port: int, scheme: str) -> bytes:
    """A Host with another port, which is left out where it is the scheme's own."""
    name = host if host.endswith(b"]") else host.rpartition(b":")[0] or host
    return name if PORTS.get(scheme) == port else b"%b:%d" % (name, port)


def split_host(host: bytes, scheme: str) -> tuple[str, int]:
    """Name and port of a well-formed Host."""
    name, colon, port = host.rpartition(b":")
    if not colon or port.endswith(b"]"):
        name, port = host, b""
    return name.strip(b"[]").decode("ascii"), int(port) if port else PORTS[scheme]


def _client(hops: bytes, is_trusted: IsTrusted) -> tuple[bool, Client]:
    """The right-most that is no trusted proxy; the last of them where all are."""
    found: tuple[bool, Client] = (False, None)
    for member in _members(hops):
        node = _node(member)
        if node is None:
            return found
        if node[1] is None or not is_trusted(node[1][0]):
            return node
        found = node
    return (True, None) if _is_too_long(hops) else found


def _is_too_long(value: bytes) -> bool:
    """Return whether a list has members that are not read."""
    return value.count(b",") >= HOPS


def _node(text: bytes) -> tuple[bool, Client] | None:
    """An address with or without a port, or a name that hides one; None for anything else.

    An IPv6 address should be in brackets, and without a port often is not.
    """
    match = NODE.fullmatch(text)
    host = (match[1] or match[2]) if match else text
    port = int(match[3] or 0) if match else 0
    if NAMELESS.fullmatch(text):
        return True, None
    try:
        # Without the check a zone, which may hold anything, would come through.
        address = ipaddress.ip_address(host.decode("ascii") if b"%" not in host else "")
    except ValueError:
        return None
    plain = getattr(address, "ipv4_mapped", None) or address
    return (True, (str(plain), port)) if port <= 65535 else None


def _members(value: bytes) -> Iterator[bytes]:
    """The members of a list from the right, without blanks; empty ones do not count."""
    left = value
    for _ in range(HOPS):
        left, comma, member = left.rpartition(b",")
        member = member.strip(b" \t")
        if member:
            yield member
        if not comma:
            return


def _last(value: bytes) -> bytes:
    return next(_members(value), b"") if value else b""


def _elements(value: bytes) -> Iterator[dict[bytes, bytes]]:
    """The elements of Forwarded from the right, as far as they are well-formed.

    Each is the shortest piece between a comma and the end that is an element. Read from the left,
    a quote that a client opens would swallow what the proxies added.
    """
    end = comma = len(value)
    for _ in range(HOPS):
        comma = value.rfind(b",", 0, comma)
        if end - comma > LONGEST:
            return  # the pattern would read it once more for each comma further left
        text = value[comma + 1 : end].strip(b" \t")
        if ELEMENT.fullmatch(text):
            if text:
                yield {name.lower(): _plain(what) for name, what in PAIR.findall(text)}
            end = comma
        if comma < 0:
            return


def _plain(value: bytes) -> bytes:
    """A value without its quotes."""
    if value[:1] != b'"':
        return value
    return re.sub(rb"\\(.)", rb"\1", value[1:-1])


def _host(value: bytes) -> bytes | None:
    if not value:
        return None
    try:
        check_host(value)
    except PeerError:
        return None
    return value


def _port(value: bytes) -> int | None:
    if not value.isdigit() or len(value) > 5:
        return None
    return int(value) if 0 < int(value) <= 65535 else None
