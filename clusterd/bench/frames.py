"""The client's side of a WebSocket whose server sends back what it gets: bytes in, echoes counted.

Of RFC 6455, with no extensions: what is compressed would measure zlib. Every echo is compared with
what was sent, so a server that answers anything is not taken for a fast one.
"""

import base64
import os
from typing import NamedTuple

from websockets.exceptions import ProtocolError
from websockets.frames import Close
from websockets.utils import accept_key, apply_mask

from clusterd.bench.answers import BadAnswer, read_head
from clusterd.bench.interval import CLOSED, PROTOCOL
from clusterd.bench.troubles import strange
from clusterd.core.units import MIB
from clusterd.wire.websocket import (
    BINARY,
    CLOSE,
    CONTINUED,
    FINAL,
    MASKED,
    OPCODE,
    PING,
    PONG,
    SHORT,
    TEXT,
)
from clusterd.wire.websocket import (
    head as head_of,
)

# Frames with a mask of their own that are made beforehand and sent in turn: fewer of long messages.
MASKS, MADE = 64, 4 * MIB  # how many, and bytes of all
LONGEST_HEAD = 65536  # bytes of a handshake's answer
END = b"\r\n\r\n"
PATTERN = b"the quick brown fox jumps over the lazy dog 0123456789 "


class Broken(Exception):
    """The connection is of no more use. `kind` is one of an interval's kinds of errors."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind
        self.text = text


class Handshake(NamedTuple):
    """A request for a WebSocket, and what its answer must hold."""

    request: bytes
    accept: bytes


def handshake(wire: bytes) -> Handshake:
    """A new one (RFC 6455 §4.1), from a GET that is ready to be sent."""
    key = base64.b64encode(os.urandom(16)).decode()
    lines = f"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: {key}\r\n"
    lines += "Sec-WebSocket-Version: 13\r\n\r\n"
    return Handshake(wire.removesuffix(b"\r\n") + lines.encode(), accept_key(key).encode())


def agreed(data: bytes, accept: bytes) -> bytes | None:
    """What came after the answer's head; None while that is not whole. Raises Broken."""
    end = data.find(END) + len(END)
    try:
        if end >= len(END):
            head = read_head(data[:end])
        elif len(data) <= LONGEST_HEAD and b"HTTP/1.".startswith(data[:7]):
            return None
        else:
            raise BadAnswer(f"no status line: {data[:60]!r}")
    except BadAnswer as error:
        raise Broken(PROTOCOL, strange(data) or str(error)) from None
    if head.status != 101:
        raise Broken(f"status {head.status}", f"the WebSocket was refused with {head.status}")
    is_websocket = head.field(b"upgrade").lower() == b"websocket"
    if not is_websocket or head.field(b"sec-websocket-accept") != accept:
        raise Broken(PROTOCOL, "the answer to the handshake is not a WebSocket's")
    if head.field(b"sec-websocket-extensions"):
        raise Broken(PROTOCOL, "the server wants an extension that was not offered")
    return data[end:]


def frame(first: int, payload: bytes, mask: bytes) -> bytes:
    """A frame as a client sends it (§5.2, §5.3)."""
    plain = head_of(first, len(payload))
    masked = bytes((plain[0], plain[1] | MASKED)) + plain[2:]
    return masked + mask + apply_mask(payload, mask)


class Message:
    """What all connections of a process send, again and again: a text of `size` bytes.

    Frames are made beforehand. Their masks repeat after a while, which matters to who fears that
    a script may choose the bytes on the wire (§10.3), and not to a server's speed.
    """

    __slots__ = ("frames", "payload", "whole")

    def __init__(self, size: int) -> None:
        self.payload = (PATTERN * (size // len(PATTERN) + 1))[:size]
        count = min(max(MADE // max(size, 1), 1), MASKS)
        self.frames = tuple(frame(FINAL | TEXT, self.payload, os.urandom(4)) for _ in range(count))
        self.whole = head_of(FINAL | TEXT, size) + self.payload  # as most servers send it back


class Echoes:
    """What one connection receives once the handshake is done."""

    __slots__ = ("_buffer", "_message", "_need", "_part", "owed")

    def __init__(self, message: Message) -> None:
        self._message = message
        self._buffer = bytearray()  # a torn frame
        self._need = 0  # bytes that it must have to be worth a look
        self._part: bytearray | None = None  # of a message in fragments
        self.owed = b""  # pongs to be sent; whoever sends them sets it to b""

    def feed(self, data: bytes) -> int:
        """How many echoes became whole; raises Broken."""
        if data == self._message.whole and not self._buffer and self._part is None:
            return 1  # by far the most usual: 0.1 µs
        buffer = self._buffer
        buffer += data
        if len(buffer) < self._need:
            return 0
        at = count = 0
        while (whole := self._frame(at)) is not None:
            first, start, at = whole
            count += self._take(first, bytes(buffer[start:at]))
        del buffer[:at]
        return count

    def _frame(self, at: int) -> tuple[int, int, int] | None:
        """First byte, and where the payload begins and ends; None while it is not whole."""
        buffer = self._buffer
        have = len(buffer) - at
        self._need = 2
        if have < 2:
            return None
        first, length, start = buffer[at], buffer[at + 1], 2
        if length >= MASKED:
            raise Broken(PROTOCOL, "the server masks its frames")  # §5.1
        if length > SHORT:
            self._need = start = 4 if length == 126 else 10
            if have < start:
                return None
            length = int.from_bytes(buffer[at + 2 : at + start])
        self._need = start + length
        return None if have < start + length else (first, at + start, at + start + length)

    def _take(self, first: int, payload: bytes) -> int:
        """One frame; whether an echo is whole with it, as 0 or 1."""
        opcode = first & OPCODE
        if first & ~(FINAL | OPCODE):
            raise Broken(PROTOCOL, "the server sets a bit of an extension that was not offered")
        if opcode in (TEXT, BINARY) and self._part is None:
            self._part = bytearray(payload)
        elif opcode == CONTINUED and self._part is not None:
            self._part += payload
        elif opcode == PING:
            self.owed += frame(FINAL | PONG, payload, os.urandom(4))
            return 0
        elif opcode == PONG:
            return 0
        elif opcode == CLOSE:
            raise Broken(CLOSED, _farewell(payload))
        else:
            raise Broken(PROTOCOL, f"a frame of kind {opcode} has no place there")
        if not first & FINAL:
            return 0
        echo, self._part = self._part, None
        if echo != self._message.payload:
            raise Broken(PROTOCOL, "the server sent something else back than it was sent")
        return 1


def _farewell(payload: bytes) -> str:
    """A close frame in words."""
    try:
        return f"the server closed the WebSocket: {Close.parse(payload)}"
    except (ProtocolError, UnicodeDecodeError):
        return "the server closed the WebSocket with a malformed frame"
