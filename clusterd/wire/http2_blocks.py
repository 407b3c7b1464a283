"""Decode the header blocks of HTTP/2 requests (HPACK, RFC 7541).

The package hpack has the tables and Huffman's code. Its decoder copies what is left of a block for
each literal field: 16 KiB of short fields took it 31 ms, in which no other client is served. Here
each byte is read once, which takes a fourth of that, and less for ordinary requests, too.
"""

import re
from typing import Any

from h2.errors import ErrorCodes
from hpack import Decoder
from hpack.exceptions import HPACKDecodingError, HPACKError
from hpack.huffman_table import decode_huffman

from clusterd.wire.heads import Pair

INDEXED, LEARNED, RESIZED = 0x80, 0x40, 0x20  # first bits of a representation (RFC 7541 §6)
LONGEST_INTEGER = 5  # octets after the first: what is longer is an error (§5.1)
ENTRY = 32  # bytes that a field counts for beside its text (§4.1)
PURE = re.compile(rb"[\x80-\xff]+")


class Unreadable(Exception):
    """A block that cannot be decoded, so no later one can be either; `code` is for GOAWAY."""

    def __init__(self, code: int) -> None:
        super().__init__("the headers cannot be decoded")
        self.code = code


class Decoded(Decoder):
    """Decodes blocks, and keeps what comes out from h2.

    `longest` is the most that the fields of a block may count for, `most` their number; fields
    beyond `most` are read, since they may change the table, and dropped.
    """

    def __init__(self, longest: int, most: int) -> None:
        super().__init__(longest)
        self._longest = longest
        self._most = most
        self._fields: list[Pair] = []
        self.is_known = False  # h2 is told of a block that was read before
        self.same: dict[bytes, Any] = {}  # blocks that mean the same until the table changes

    def take(self) -> list[Pair]:
        """Return the fields of the last block, once: they would stay until the next one."""
        fields, self._fields = self._fields, []
        return fields

    def decode(self, data: bytes, raw: bool = False) -> list[Pair]:  # type: ignore[override]
        if self.is_known:
            return []
        try:
            self._decode(data)
        except (HPACKError, IndexError):
            raise Unreadable(ErrorCodes.COMPRESSION_ERROR) from None
        if not is_pure(data):
            self.same.clear()
        return []

    def _decode(self, data: bytes) -> None:
        table, most = self.header_table, self._most
        fields = self._fields = []
        at, end, size = 0, len(data), 0
        while at < end:
            first = data[at]
            if first & INDEXED:
                index, at = _integer(data, at, 0x7F)
                pair = table.get_by_index(index)
            elif first & (LEARNED | RESIZED) == RESIZED:
                if fields:
                    raise HPACKDecodingError("the table's size changes after a field")
                at = self._resize(data, at)
                continue
            else:
                pair, at = self._literal(data, at, first)
            size += len(pair[0]) + len(pair[1]) + ENTRY
            if size > self._longest:
                raise Unreadable(ErrorCodes.ENHANCE_YOUR_CALM)
            if len(fields) < most:
                fields.append(pair)

    def _literal(self, data: bytes, at: int, first: int) -> tuple[Pair, int]:
        """Return a field that is spelled out, or its value is, and where the next begins."""
        table = self.header_table
        index, at = _integer(data, at, 0x3F if first & LEARNED else 0x0F)
        if index:
            name = table.get_by_index(index)[0]
        else:
            name, at = _string(data, at)
        value, at = _string(data, at)
        if first & LEARNED:
            table.add(name, value)
        return (name, value), at

    def _resize(self, data: bytes, at: int) -> int:
        size, at = _integer(data, at, 0x1F)
        if size > self.max_allowed_table_size:
            raise HPACKDecodingError("the table is larger than allowed")
        self.header_table_size = size
        return at


def _integer(data: bytes, at: int, most: int) -> tuple[int, int]:
    """Return an integer whose first octet has room for `most`, and where it ends (§5.1)."""
    value = data[at] & most
    at += 1
    if value < most:
        return value, at
    for shift in range(0, 7 * LONGEST_INTEGER, 7):
        octet = data[at]
        at += 1
        value += (octet & 0x7F) << shift
        if octet < 0x80:
            return value, at
    raise HPACKDecodingError("an integer is too long")


def _string(data: bytes, at: int) -> tuple[bytes, int]:
    """Return a string, and where it ends (§5.2)."""
    is_packed = data[at] & 0x80
    length, at = _integer(data, at, 0x7F)
    end = at + length
    text = data[at:end]
    if len(text) != length:
        raise HPACKDecodingError("a string is cut short")
    return (bytes(decode_huffman(text)) if is_packed else text), end


def is_pure(block: bytes) -> bool:
    """Return whether a block only names entries of the table (§6.1), as of clients that repeat
    themselves."""
    return PURE.fullmatch(block) is not None
