"""What a row of the tables is, and the bytes that most of them are made of."""

from collections.abc import Iterable
from typing import NamedTuple

CRLF = b"\r\n"


class Row(NamedTuple):
    """Bytes that are no proper request."""

    status: int  # of the one answer, after which the connection is closed
    source: str  # the section that says so
    data: bytes


def get(
    *fields: bytes,
    target: bytes = b"/",
    method: bytes = b"GET",
    version: bytes = b"HTTP/1.1",
    host: bytes | None = b"a",
) -> bytes:
    """A request without a body; or with one that the caller appends."""
    lines = [b" ".join((method, target, version))]
    if host is not None:
        lines.append(b"Host: " + host)
    return CRLF.join([*lines, *fields, b"", b""])


def post(*fields: bytes, body: bytes = b"", **more: bytes) -> bytes:
    """A request whose framing is in its fields."""
    return get(*fields, method=b"POST", **more) + body


def chunked(body: bytes) -> bytes:
    """A request with a chunked body."""
    return post(b"Transfer-Encoding: chunked", body=body)


def rows(status: int, source: str, data: Iterable[bytes]) -> list[Row]:
    return [Row(status, source, each) for each in data]


def inserted(data: bytes, what: bytes, places: Iterable[int]) -> list[bytes]:
    """The bytes with others put in, at each of the places."""
    return [data[:place] + what + data[place:] for place in places]


def words(text: str) -> list[bytes]:
    """Many short byte strings, parted by blanks and written as Python writes them."""
    return [word.encode().decode("unicode_escape").encode("latin-1") for word in text.split()]
