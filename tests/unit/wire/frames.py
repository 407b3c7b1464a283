"""Frames as a client makes them, and a reader that remembers what it was told."""

import itertools
import operator
import struct

from clusterd.wire.upgrade import COMPRESSION
from clusterd.wire.websocket import CLOSE, FINAL, Frames, Violation

MASK = b"\x37\xfa\x21\x3d"


def frame(first: int, data: bytes = b"", mask: bytes = MASK, length: bytes | None = None) -> bytes:
    """A masked frame; `length` in place of the right one: the second byte and what extends it."""
    if length is None:
        if len(data) < 126:
            length = bytes((0x80 | len(data),))
        elif len(data) < 0x10000:
            length = b"\xfe" + struct.pack("!H", len(data))
        else:
            length = b"\xff" + struct.pack("!Q", len(data))
    masked = bytes(map(operator.xor, data, itertools.cycle(mask)))
    return bytes((first,)) + length + mask + masked


def closing(code: int, reason: bytes = b"") -> bytes:
    return frame(FINAL | CLOSE, struct.pack("!H", code) + reason)


class Ear(Frames):
    """Remembers what came; stops at the close frame or at what is wrong, as its heirs do."""

    def __init__(self, limit: int = 1000, compresses: bool = False) -> None:
        super().__init__(limit)
        if compresses:
            _, self._deflate = COMPRESSION.process_request_params([], [])
        self.heard: list[object] = []
        self.is_over = False

    def on_message(self, data: str | bytes) -> None:
        self.heard.append(data)

    def on_ping(self, data: bytes) -> None:
        self.heard.append(("ping", data))

    def on_pong(self) -> None:
        self.heard.append("pong")

    def on_close(self, code: int, reason: str) -> None:
        self.heard.append(("close", code, reason))
        self.is_over = True

    def take(self, *pieces: bytes) -> list[object]:
        """Everything that was heard; a code at its end says how the client broke the protocol."""
        for piece in pieces:
            if not self.is_over:
                try:
                    self.feed(piece)
                except Violation as error:
                    self.heard.append(error.status)
                    self.is_over = True
        return self.heard


def heard(*pieces: bytes, limit: int = 1000, compresses: bool = False) -> list[object]:
    return Ear(limit, compresses).take(*pieces)
