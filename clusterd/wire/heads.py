"""Lines of a request's head, judged once: clients repeat themselves, so a line that was seen
before costs one lookup instead of a parse (measured, a browser's dozen headers: 2.6 µs for 9.5).

A line is remembered only after it was found to be well-formed, by its whole text, so what comes
out never depends on who sent it. Tables are bounded; what changes with every request stays out.
"""

import re
from typing import NamedTuple

from clusterd.core.errors import PeerError
from clusterd.wire.tables import HOST, METHODS, TOKEN
from clusterd.wire.target import authority, check_host, parse_target

MOST = 2048  # lines of each table; beyond it the table starts anew
LONGEST = 256  # bytes of a line worth remembering
# Names whose values rarely come twice.
FICKLE = frozenset(
    {
        b"content-length",
        b"if-modified-since",
        b"if-none-match",
        b"idempotency-key",
        b"traceparent",
        b"x-amzn-trace-id",
        b"x-correlation-id",
        b"x-request-id",
        b"x-request-start",
    }
)
# RFC 9112 §5: a token, a colon right after it, and what RFC 9110 §5.5 allows. Blanks are stripped
# afterwards: in the pattern they would make it quadratic.
FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):([^\x00-\x08\x0a-\x1f\x7f]*)")
LENGTH = b"content-length"
PREFACE = b"PRI * HTTP/2.0"
VERSION = re.compile(rb"HTTP/[0-9]\.[0-9]")

Pair = tuple[bytes, bytes]


Asked = tuple[str, str, bytes, bytes]  # method, path, raw path, query


class RequestLine(NamedTuple):
    """A well-formed request line."""

    asked: Asked
    old: bool  # HTTP/1.0
    host: bytes | None  # of a target in absolute form, which stands for Host


class Preface(PeerError):
    """HTTP/2's connection preface (RFC 9113 §3.4), up to its first blank line: who speaks that may
    go on with `rest`, which came after."""

    rest = b""


request_lines: dict[bytes, RequestLine] = {}
# Those of HTTP/1.1 whose target is a path, as plain tuples: unpacking a NamedTuple costs more.
usual_lines: dict[bytes, Asked] = {}
fields: dict[bytes, Pair] = {}


def learn_request_line(line: bytes) -> RequestLine:
    """Judge a request line; raises PeerError with the status it earns."""
    if b"\n" in line:
        raise PeerError(400, "a line ends with LF alone")
    parts = line.split(b" ")
    method = METHODS.get(parts[0])
    if method is None:
        if line == PREFACE:
            raise Preface(505, "only HTTP/1.1 and HTTP/1.0 are spoken here")
        if TOKEN.fullmatch(parts[0]) and len(parts) > 1:
            raise PeerError(501, "the method is not implemented")
        raise PeerError(400, "this is not HTTP")
    if len(parts) < 3:
        raise PeerError(400, "the request line has no version")
    if len(parts) > 3 or not VERSION.fullmatch(parts[2]):
        raise PeerError(400, "the request line is malformed")
    if not parts[2].startswith(b"HTTP/1."):  # a later minor version is served as 1.1: §6.2
        raise PeerError(505, "only HTTP/1.1 and HTTP/1.0 are spoken here")
    target = parts[1]
    request = RequestLine(
        (method, *parse_target(target, method)),
        parts[2] == b"HTTP/1.0",
        None if target[:1] == b"/" else authority(target),
    )
    if len(line) <= LONGEST:
        if len(request_lines) >= MOST:
            request_lines.clear()
            usual_lines.clear()
        request_lines[line] = request
        if not request.old and request.host is None:
            usual_lines[line] = request.asked
    return request


def learn_field(line: bytes) -> Pair:
    """Judge a header line: its name in lower case, and its value without blanks around it."""
    if line[14:16] == b": " and line[16:].isdigit() and line[:14].lower() == LENGTH:
        return LENGTH, line[16:]  # of every request with a body, and not worth remembering
    match = FIELD.fullmatch(line)
    if match is None:
        raise PeerError(400, "a header is malformed")
    name, value = match[1].lower(), match[2].strip(b" \t")
    if name == HOST:
        check_host(value)
    if name not in FICKLE and len(line) <= LONGEST:
        if len(fields) >= MOST:
            fields.clear()
        fields[line] = (name, value)
    return name, value
