"""The head of an HTTP/2 request, judged: pseudo-headers and fields in, what HTTP/1 has out.

What RFC 9113 §8.1.1 calls malformed is a `Malformed` and costs its stream; what HTTP itself refuses
is a PeerError with the status to answer, as in HTTP/1. Nothing here knows of frames.
"""

import re
from typing import NamedTuple

from clusterd.core.errors import PeerError
from clusterd.wire.heads import FICKLE, LONGEST, MOST, Asked, Pair
from clusterd.wire.limits import Limits
from clusterd.wire.request import BODYLESS, CHUNKED
from clusterd.wire.tables import HOST, METHODS, TOKEN, TOLD
from clusterd.wire.target import check_host, parse_target

METHOD, SCHEME, AUTHORITY, PATH = b":method", b":scheme", b":authority", b":path"
# RFC 9113 §8.3.1. `:protocol` is not among them: extended CONNECT (RFC 8441) is not offered.
PSEUDO = frozenset({METHOD, SCHEME, AUTHORITY, PATH})
SCHEMES = frozenset({b"http", b"https"})
# RFC 9113 §8.2: as in HTTP/1, but in lower case.
NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9a-z-]+")
# RFC 9110 §5.5: what no value has, as `tables.VALUE` has it. To delete them takes a fourth of the
# time of a regular expression, which would be most of what a long head costs.
CONTROLS = bytes((*range(9), *range(10, 32), 127))
# RFC 9113 §8.2.2: they would mean something on a connection that this one is not.
HOP = frozenset(
    {b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"}
)
COOKIE, LENGTH, EXPECT = b"cookie", b"content-length", b"expect"
NOTABLE = TOLD | {COOKIE, LENGTH, EXPECT}


class Malformed(PeerError):
    """No request at all: its stream is reset with PROTOCOL_ERROR (RFC 9113 §8.1.1)."""

    def __init__(self, message: str) -> None:
        super().__init__(400, message)


class Head(NamedTuple):
    """A request, as `Reader.on_request` tells it."""

    asked: Asked
    headers: list[Pair]
    length: int  # of the body: BODYLESS, CHUNKED for not said, or so many bytes
    expects: bool  # the client waits for 100 Continue
    told: bool  # there are headers that a proxy tells of its client with
    size: int = 0  # bytes of all names and values


# What was well-formed once, by its whole text, as in `heads`; bounded alike.
_fields: dict[Pair, Pair] = {}
_targets: dict[Pair, Asked] = {}
_hosts: dict[bytes, Pair] = {}


def judge(block: list[Pair], ended: bool, limits: Limits) -> Head:
    """The request that a block of fields makes; `ended`: no body follows. Raises PeerError."""
    pseudo: dict[bytes, bytes] = {}
    headers: list[Pair] = []
    for pair in block:
        if pair[0][:1] == b":":
            _take_pseudo(pair, pseudo, headers)
        else:
            headers.append(_fields.get(pair) or _learn(pair))
    asked = _asked(pseudo, limits)
    size = measure(block, limits)
    table = dict(headers)
    length, expects, told = (BODYLESS if ended else CHUNKED), False, False
    if not NOTABLE.isdisjoint(table):
        told = not TOLD.isdisjoint(table)
        if LENGTH in table:
            length = _length(headers, ended, limits)
        if EXPECT in table:
            expects = _expects(table[EXPECT]) and length != BODYLESS
        if COOKIE in table:
            headers = _with_one_cookie(headers)
    headers = _with_host(headers, table, pseudo.get(AUTHORITY))
    return Head(asked, headers, length, expects, told, size)


def measure(block: list[Pair], limits: Limits) -> int:
    """Return the bytes of names and values; raises PeerError for more than a request may have."""
    if len(block) > limits.fields + len(PSEUDO):
        raise PeerError(431, "there are too many request headers")
    size = size_of(block)
    if size > limits.headers:
        raise PeerError(431, "the request headers are too long")
    return size


def size_of(block: list[Pair]) -> int:
    """Bytes of names and values."""
    return sum([len(name) + len(value) for name, value in block])


def judge_trailers(block: list[Pair], limits: Limits) -> None:
    """Trailers are read and dropped, but they have to be well-formed. Raises PeerError."""
    measure(block, limits)
    for pair in block:
        if pair not in _fields:
            _learn(pair)


def _take_pseudo(pair: Pair, pseudo: dict[bytes, bytes], headers: list[Pair]) -> None:
    name, value = pair
    if name not in PSEUDO:
        raise Malformed("there is an unknown pseudo-header")
    if name in pseudo:
        raise Malformed("a pseudo-header is repeated")
    if headers:
        raise Malformed("a pseudo-header comes after a header")
    pseudo[name] = value


def _learn(pair: Pair) -> Pair:
    """Judge a field seen for the first time."""
    name, value = pair
    if not NAME.fullmatch(name):
        raise Malformed("a header's name is malformed")
    if value.translate(None, CONTROLS) != value or value != value.strip(b" \t"):
        raise Malformed("a header's value is malformed")
    if name in HOP or (name == b"te" and value.lower() != b"trailers"):
        raise Malformed("a header belongs to HTTP/1 connections")
    if name not in FICKLE and len(name) + len(value) <= LONGEST:
        if len(_fields) >= MOST:
            _fields.clear()
        _fields[name, value] = (name, value)
    return name, value


def _asked(pseudo: dict[bytes, bytes], limits: Limits) -> Asked:
    """Method and target; raises PeerError with the status that they earn."""
    method, path, scheme = pseudo.get(METHOD), pseudo.get(PATH), pseudo.get(SCHEME)
    if method is None or not TOKEN.fullmatch(method):
        raise Malformed("there is no proper :method")
    if method == b"CONNECT" and path is None and scheme is None:
        raise PeerError(501, "this is no proxy")
    if not path or not scheme:
        raise Malformed("there is no :path or no :scheme")
    if scheme not in SCHEMES:
        # Which of both it names is not believed: the transport and the proxies tell (`trust`).
        raise PeerError(400, "the scheme is neither http nor https")
    known = METHODS.get(method)
    if known is None:
        raise PeerError(501, "the method is not implemented")
    if len(path) > limits.line:
        raise PeerError(414, "the request target is too long")
    asked = _targets.get((method, path))
    if asked is None:
        if path[:1] != b"/" and path != b"*":
            raise Malformed("the :path is not a path")
        asked = (known, *parse_target(path, known))
        if len(path) <= LONGEST:
            if len(_targets) >= MOST:
                _targets.clear()
            _targets[method, path] = asked
    return asked


def _with_host(
    headers: list[Pair], table: dict[bytes, bytes], authority: bytes | None
) -> list[Pair]:
    """Host in front, made of `:authority`, which it may repeat but not contradict (§8.3.1)."""
    if HOST in table:
        hosts = [value for name, value in headers if name == HOST]
        if len(hosts) > 1:
            raise PeerError(400, "there must be exactly one Host")
        if authority is not None and authority != hosts[0]:
            raise Malformed("Host contradicts :authority")
        authority = hosts[0]
        headers = [pair for pair in headers if pair[0] != HOST]
    if authority is None:
        raise PeerError(400, "there must be exactly one Host")
    host = _hosts.get(authority)
    if host is None:
        check_host(authority)
        host = (HOST, authority)
        if len(authority) <= LONGEST:
            if len(_hosts) >= MOST:
                _hosts.clear()
            _hosts[authority] = host
    return [host, *headers]


def _length(headers: list[Pair], ended: bool, limits: Limits) -> int:
    """The body's length as Content-Length has it, which the frames must bear out (§8.1.1)."""
    lengths = [value for name, value in headers if name == LENGTH]
    if len(lengths) > 1 or not lengths[0].isdigit() or len(lengths[0]) > 18:
        raise Malformed("Content-Length is malformed")
    length = int(lengths[0])
    if ended and length:
        raise Malformed("the body has fewer bytes than its Content-Length")
    if limits.body and length > limits.body:
        raise PeerError(413, "the request body is too large")
    return length


def _expects(value: bytes) -> bool:
    if value.lower() != b"100-continue":
        raise PeerError(417, "only 100-continue can be expected")
    return True


def _with_one_cookie(headers: list[Pair]) -> list[Pair]:
    """§8.2.3: crumbs of a cookie are joined for those who know HTTP/1 alone."""
    crumbs = [value for name, value in headers if name == COOKIE]
    if len(crumbs) == 1:
        return headers
    rest = [pair for pair in headers if pair[0] != COOKIE]
    return [*rest, (COOKIE, b"; ".join(crumbs))]
