"""The heads of answers in HTTP/2's compression (HPACK), written so that nothing is remembered.

Every field is a literal that neither side indexes (RFC 7541 §6.2.2), as nginx does: a field's bytes
then never depend on what went before, so they are kept by (name, value) like HTTP/1's lines, the
client can make us remember nothing, and no secret shares a table with what an attacker chose.
It costs some dozen bytes an answer and spares the search of a table for each field.
"""

from typing import Any

from clusterd.wire.response import (
    FICKLE,
    FRAMING,
    LONGEST,
    MOST,
    OURS,
    SPECIAL,
    UNKNOWN,
    HeaderError,
    Judged,
    Pair,
    checked,
    length_of,
)

# RFC 7541 appendix A: names that answers have, by their index in the static table.
# fmt: off
STATIC = {
    b"accept-ranges": 18, b"access-control-allow-origin": 20, b"age": 21, b"allow": 22,
    b"cache-control": 24, b"content-disposition": 25, b"content-encoding": 26,
    b"content-language": 27, b"content-length": 28, b"content-location": 29,
    b"content-range": 30, b"content-type": 31, b"date": 33, b"etag": 34, b"expires": 36,
    b"last-modified": 44, b"link": 45, b"location": 46, b"proxy-authenticate": 48,
    b"refresh": 52, b"retry-after": 53, b"server": 54, b"set-cookie": 55,
    b"strict-transport-security": 56, b"vary": 59, b"via": 60, b"www-authenticate": 61,
}
STATUSES = {200: 8, 204: 9, 206: 10, 304: 11, 400: 12, 404: 13, 500: 14}
# fmt: on
STATUS = 8  # any of the entries that have `:status` for a name
NEVER = 0x10  # RFC 7541 §6.2.3: nor may a proxy on the way index it
SECRET = frozenset({b"set-cookie"})
# RFC 9113 §8.2.2
HOP = FRAMING | {b"upgrade"}
# RFC 7541 §6.3: the first block of a connection begins with it. Our table has no room at all.
NO_TABLE = b"\x20"

_known: dict[Pair, bytes | int] = {}
_lengths: dict[int, bytes] = {}


def integer(value: int, bits: int, first: int = 0) -> bytes:
    """RFC 7541 §5.1: an integer whose first byte has `bits` bits for it, and `first` above."""
    most = (1 << bits) - 1
    if value < most:
        return bytes((first | value,))
    octets = bytearray((first | most,))
    value -= most
    while value >= 128:
        octets.append(value & 127 | 128)
        value >>= 7
    octets.append(value)
    return bytes(octets)


def literal(name: bytes, value: bytes) -> bytes:
    """A field that nobody remembers. The name is in lower case."""
    first = NEVER if name in SECRET else 0
    index = STATIC.get(name)
    if index is not None:
        head = integer(index, 4, first)
    else:
        head = b"%c%b%b" % (first, integer(len(name), 7), name)
    return b"%b%b%b" % (head, integer(len(value), 7), value)


def status_field(status: int) -> bytes:
    """The pseudo-header `:status`, which comes first."""
    index = STATUSES.get(status)
    if index is not None:
        return bytes((0x80 | index,))
    return b"%c%c%d" % (STATUS, 3, status)


def length_field(length: int) -> bytes:
    """The Content-Length."""
    field = _lengths.get(length)
    if field is None:
        field = literal(b"content-length", b"%d" % length)
        if len(_lengths) >= MOST:
            _lengths.clear()
        _lengths[length] = field
    return field


def add_fields(headers: list[Any], parts: list[bytes]) -> int:
    """Append an app's headers; return its Content-Length, UNKNOWN or SPECIAL.

    After SPECIAL, what was appended means nothing: ask `judge_fields`. Raises HeaderError.
    """
    length = UNKNOWN
    try:
        for pair in headers:
            field = _known.get(pair)
            if field is None:
                field = _learn(pair)
                if field is None:
                    return SPECIAL
            if field.__class__ is bytes:
                parts.append(field)
            elif length == UNKNOWN:
                length = field  # type: ignore[assignment]
            else:
                return SPECIAL
    except TypeError:  # pairs that are lists
        return SPECIAL
    return length


def judge_fields(headers: list[Any]) -> Judged:
    """The long way: what `add_fields` does, for any headers."""
    fields: list[bytes] = []
    length, ours = UNKNOWN, set()
    for pair in headers:
        name, value = _checked(pair)
        if name == b"content-length":
            if length != UNKNOWN:
                raise HeaderError("there is more than one Content-Length")
            length = length_of(value)
        elif name not in HOP:
            if name in OURS:
                ours.add(name)
            fields.append(literal(name, value))
    return Judged(fields, length, False, frozenset(ours))


def _checked(pair: Any) -> Pair:
    """RFC 9113 §8.2: names in lower case, and no blanks around values."""
    name, value = checked(pair)
    return name.lower(), value.strip(b" \t")


def _learn(pair: Any) -> bytes | int | None:
    """The bytes of a field seen for the first time, a Content-Length, or None for a special one."""
    name, value = _checked(pair)
    if name in HOP or name in OURS:
        return None
    field = length_of(value) if name == b"content-length" else literal(name, value)
    if name not in FICKLE and len(name) + len(value) <= LONGEST:
        if len(_known) >= MOST:
            _known.clear()
        _known[pair[0], pair[1]] = field
    return field
