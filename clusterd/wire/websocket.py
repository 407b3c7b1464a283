"""WebSocket frames: bytes in, messages out, and back (RFC 6455; compression is RFC 7692).

Frames are cut here rather than by the `websockets` package, whose masks, compression and close
payloads are used. So what is wrong with a frame is found in its head, before its payload is waited
for; reading can stop between two messages while nobody takes them; and a message costs a fraction.
Whoever serves derives from `Frames` and gets `on_message`, `on_ping`, `on_pong` and `on_close`.
A client that breaks the protocol is a `Violation` with the close code that says how; after one the
reader is spent.
"""

import codecs
import re
import struct
import sys
from typing import TYPE_CHECKING

from websockets.exceptions import PayloadTooBig, ProtocolError
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Close, Frame, Opcode

from clusterd.core.errors import PeerError

try:
    from websockets.speedups import apply_mask
except ImportError:  # built without C: 2.7 µs for 0.3 (measured, 100 bytes)
    from websockets.utils import apply_mask

# The first byte of a frame (§5.2): whether it is the last of its message, whether the message is
# compressed, two bits that mean nothing, and the opcode.
FINAL, DEFLATED, RESERVED, OPCODE = 0x80, 0x40, 0x30, 0x0F
CONTINUED, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
WHOLE_TEXT, WHOLE_BINARY = FINAL | TEXT, FINAL | BINARY
MASKED = 0x80  # of the second byte
UTF8 = codecs.getincrementaldecoder("utf-8")
SHORT = 125  # bytes whose number fits the second byte; a control frame has no more (§5.5)
REASON = SHORT - 2  # bytes of a close frame's reason
WORTH = (
    256  # bytes; what is shorter is sent as it is, since compressing it costs more than it saves
)

# Close codes (§7.4.1, and 1012 of IANA's registry). NO_CODE and LOST are never sent.
NORMAL, GOING_AWAY, BROKEN, NO_CODE, LOST = 1000, 1001, 1002, 1005, 1006
BAD_DATA, TOO_SLOW, TOO_BIG, FAILED, RESTART, TRY_LATER = 1007, 1008, 1009, 1011, 1012, 1013

LARGE = 64 * 1024  # bytes of a frame or message that there must be room for, copies included
# How much longer than what was sent a message may become, beyond so many bytes and a part of the
# room that there is. Measured: of 440 JSON files, texts and sources of 64 KiB and more none is
# compressed to less than 1/78, half of them to no less than 1/8. What says the same over and over
# is, to 1/1028 at most: a blank picture gets through unless memory is scarce, a crowd of them not.
RATIO, FREE, SPARE = 100, 1024 * 1024, 16
# What begins a character for which a text has four bytes for each of its characters.
WIDE = re.compile(rb"[\xf0-\xf4]")

# Heirs combine `Frames` with a base that has slots, so they list these among their own.
SLOTS = (
    "_buffer",
    "_checked",
    "_compressed",
    "_deflate",
    "_inflates",
    "_is_text",
    "_limit",
    "_message",
    "_need",
    "_payload_at",
    "_utf8",
    "is_full",
)

_short_heads = {
    first: [bytes((first, size)) for size in range(SHORT + 1)]
    for first in (WHOLE_TEXT, WHOLE_BINARY)
}


class Violation(PeerError):
    """The client broke the protocol; `status` is the close code that says how (§7.4.1)."""


class Frames:
    """One connection's reader. A callback that sets `is_full` stops it after the message."""

    if not TYPE_CHECKING:  # mypy would have the slots here, where they cannot be
        __slots__ = ()

    is_full: bool
    _limit: int  # bytes of a message, decompressed
    _deflate: PerMessageDeflate | None
    # A torn frame, or what came while `is_full`. It is replaced by a new one, never cleared: of a
    # mapping of its own (`kernel.heap`) a cleared bytearray keeps a page.
    _buffer: bytearray
    _need: int  # bytes that the buffer must have to be worth a look
    _message: bytearray | None  # what came of a message in fragments
    _is_text: bool  # what that is
    _inflates: bool  # and whether it is compressed,
    _compressed: int  # and how many bytes came of it, if so
    # Text is checked as it comes (§8.1), not only once its message is whole:
    _utf8: codecs.IncrementalDecoder | None  # of the message that is being read
    _payload_at: int  # where in the buffer the payload of a torn frame of text begins; else 0
    _checked: int  # bytes of that payload that were checked

    def __init__(self, limit: int) -> None:
        """`limit`: bytes of a message, decompressed; 0 for none."""
        self.is_full = False
        self._limit = limit or sys.maxsize
        self._deflate = None
        self._buffer = bytearray()
        self._need = 0
        self._message = None
        self._is_text = self._inflates = False
        self._compressed = 0
        self._utf8 = None
        self._payload_at = self._checked = 0

    # --- what the deriving class is told

    def on_message(self, data: str | bytes) -> None:
        """A whole message, text or binary."""

    def on_ping(self, data: bytes) -> None:
        """A ping, to be answered with a pong of the same data (§5.5.2)."""

    def on_pong(self) -> None:
        """A pong, asked for or not."""

    def on_close(self, code: int, reason: str) -> None:
        """The client's last frame. Code 1005: it had none. What comes after it is not read."""

    def room(self) -> int:
        """Return how many bytes may be taken for a message, copies included."""
        return sys.maxsize

    # --- reading

    def feed(self, data: bytes | bytearray) -> None:
        """Read frames until what there is ends within one, or `is_full`. Raises Violation."""
        checked = 0  # bytes of the first frame's payload
        if self._buffer or self.is_full:
            self._buffer += data
            if self.is_full:
                return
            if len(self._buffer) < self._need:
                if self._payload_at:
                    self._check_torn()
                return
            data, self._buffer = self._buffer, bytearray()
            checked, self._checked = self._checked, 0
            self._payload_at = 0
        at, end = 0, len(data)
        while end - at > 1 and not self.is_full:
            first, second = data[at], data[at + 1]
            start, length = at + 6, second & ~MASKED
            if length > SHORT:
                self._need = wide = 4 if length == 126 else 10
                if end - at < wide:
                    break
                length = _long(data[at + 2 : at + wide])
                start += wide - 2
            if (
                (first != WHOLE_TEXT and first != WHOLE_BINARY)
                or second < MASKED
                or length > self._limit
                or self._message is not None
            ):
                self._judge(first, second, length)
            stop = start + length
            if end < stop:
                self._need = stop - at
                if self._is_plain_text(first):
                    self._payload_at, self._checked = start - at, checked
                    if first & OPCODE == TEXT and not checked:
                        self._utf8 = UTF8()
                break
            if length > LARGE:
                payload = self._unmask_large(data, start, stop)
                if stop == end:
                    data, stop, end = b"", 0, 0  # a text takes as much again
            else:
                payload = apply_mask(data[start:stop], data[start - 4 : start])
            at = stop
            if first == WHOLE_TEXT:
                self.on_message(self._text(payload))
            elif first == WHOLE_BINARY:
                self.on_message(payload)
            elif first & CLOSE and self._control(first & OPCODE, payload):
                return
            elif not first & CLOSE:
                self._take(first, payload, checked)
            checked = 0
        else:
            self._need = 2
        if at < end:
            self._buffer += data[at:] if at else data
            if self._payload_at:
                self._check_torn()

    def _unmask_large(self, data: bytes | bytearray, start: int, stop: int) -> bytes:
        """Return the payload from `start` to `stop` unmasked, with one copy. Raises Violation."""
        self._check_room(2 * (stop - start))  # as it came, and unmasked
        with memoryview(data) as view:
            return apply_mask(view[start:stop], bytes(view[start - 4 : start]))

    def _is_plain_text(self, first: int) -> bool:
        """Return whether a judged frame is uncompressed text, or a part of one."""
        if first & OPCODE == CONTINUED:
            return self._is_text and not self._inflates
        return first & OPCODE == TEXT and not first & DEFLATED

    def _check_torn(self) -> None:
        """Check what has come of a frame of text. Raises Violation."""
        start, checked = self._payload_at, self._checked
        piece = bytes(self._buffer[start + checked :])
        if piece:
            self._checked += len(piece)
            turn = checked % 4
            mask = self._buffer[start - 4 : start]
            self._check(apply_mask(piece, bytes(mask[turn:] + mask[:turn])), final=False)

    def _check(self, text: bytes, final: bool) -> None:
        """Check the next bytes of a message's text. Raises Violation."""
        assert self._utf8 is not None
        try:
            self._utf8.decode(text, final)
        except UnicodeDecodeError:
            raise Violation(BAD_DATA, "a text that is not UTF-8") from None  # §8.1

    def _judge(self, first: int, second: int, length: int) -> None:
        """Raise Violation for a frame that is wrong by its head."""
        opcode = first & OPCODE
        is_data = opcode < CLOSE
        if opcode not in (CONTINUED, TEXT, BINARY, CLOSE, PING, PONG):
            raise Violation(BROKEN, "an opcode that means nothing")  # §5.2
        if second < MASKED:
            raise Violation(BROKEN, "a frame without a mask")  # §5.1
        if first & RESERVED:
            raise Violation(BROKEN, "a reserved bit is set")  # §5.2
        if first & DEFLATED and (opcode not in (TEXT, BINARY) or self._deflate is None):
            raise Violation(BROKEN, "a bit for compression has no place here")  # RFC 7692 §6.1
        if not is_data and (length > SHORT or not first & FINAL):
            raise Violation(BROKEN, "a control frame that is long or in fragments")  # §5.5
        if is_data and (opcode == CONTINUED) is (self._message is None):
            raise Violation(BROKEN, "a fragment in the wrong place")  # §5.4
        if is_data:
            self._measure(first, length)

    def _measure(self, first: int, length: int) -> None:
        """Refuse what cannot fit, before it is read."""
        room = self._limit
        if first & DEFLATED or (self._message is not None and self._inflates):
            room += room // 16 + 64  # what cannot be compressed gets longer by the attempt
        elif self._message is not None:
            room -= len(self._message)
        if length > room:
            raise Violation(TOO_BIG, "a message is too long")

    def _take(self, first: int, payload: bytes, checked: int) -> None:
        """Take a data frame that is a fragment, or compressed, or both.

        `checked`: bytes of its text that were checked before it was whole.
        """
        message = self._message
        if message is None:
            self._is_text = first & OPCODE == TEXT
            self._compressed = 0
            self._inflates = bool(first & DEFLATED)
            if self._is_text and not checked:
                self._utf8 = UTF8()
        if self._inflates:
            payload = self._inflated(first, payload, len(message or b""))
        if self._is_text:
            self._check(payload[checked:], bool(first & FINAL))
        if not first & FINAL:
            # One buffer: many tiny fragments must cost neither an object each nor repeated copies.
            if message is None:
                self._message = message = bytearray()
            message += payload
            return
        if message is not None:
            message += payload
            if len(message) > LARGE:
                self._check_room(2 * len(message))
            payload = bytes(message)
            message = None
            self._message = self._utf8 = None
        self.on_message(self._text(payload) if self._is_text else payload)

    def _text(self, data: bytes) -> str:
        """Return the text of a message. Raises Violation."""
        if len(data) > LARGE and not data.isascii():
            self._check_room(len(data) * (5 if WIDE.search(data) else 3))
        try:
            return data.decode()
        except UnicodeDecodeError:
            raise Violation(BAD_DATA, "a text that is not UTF-8") from None  # §8.1

    def _check_room(self, size: int) -> None:
        if size > self.room():
            raise Violation(TRY_LATER, "memory is short")

    def _inflated(self, first: int, payload: bytes, size: int) -> bytes:
        """Decompress a frame, to no more than a message may have."""
        assert self._deflate is not None  # `_judge` saw to that
        frame = Frame(Opcode(first & OPCODE), payload, bool(first & FINAL), bool(first & DEFLATED))
        self._compressed += len(payload)
        room = self.room()
        allowed = max(FREE, RATIO * self._compressed, room // SPARE) - size
        room //= 3  # pieces, the whole of them, and what there is of the message
        left = min(self._limit - size, allowed, room)
        try:
            # One byte too many tells a message that is too long from one that just fits.
            data = bytes(self._deflate.decode(frame, max_size=max(0, left) + 1).data)
        except PayloadTooBig:
            data = b""
        except ProtocolError:
            raise Violation(BAD_DATA, "a message cannot be decompressed") from None
        else:
            if len(data) <= left:
                return data
        if left == room:
            raise Violation(TRY_LATER, "memory is short")
        if left == allowed:
            raise Violation(TOO_BIG, "a message becomes too long when it is decompressed")
        raise Violation(TOO_BIG, "a message is too long")

    def _control(self, opcode: int, payload: bytes) -> bool:
        """A control frame; whether it was the last of all."""
        if opcode == PING:
            self.on_ping(payload)
        elif opcode == PONG:
            self.on_pong()
        else:
            try:
                close = Close.parse(payload)
            except ProtocolError:
                raise Violation(BROKEN, "a close frame that is malformed") from None  # §5.5.1
            except UnicodeDecodeError:
                raise Violation(BAD_DATA, "a close reason that is not UTF-8") from None
            self.on_close(int(close.code), close.reason)
        return opcode == CLOSE

    # --- writing

    def deflated(self, first: int, data: bytes) -> tuple[int, bytes]:
        """A whole message's first byte and payload, compressed where that was agreed on."""
        if self._deflate is None or len(data) < WORTH:
            return first, data
        frame = self._deflate.encode(Frame(Opcode(first & OPCODE), data))
        return first | DEFLATED, bytes(frame.data)


def head(first: int, size: int) -> bytes:
    """The head of a frame that a server sends: without a mask (§5.1)."""
    if size <= SHORT:
        heads = _short_heads.get(first)
        return heads[size] if heads is not None else bytes((first, size))
    if size < 0x10000:
        return struct.pack("!BBH", first, 126, size)
    return struct.pack("!BBQ", first, 127, size)


def pong(data: bytes) -> bytes:
    """The answer to a ping."""
    return head(FINAL | PONG, len(data)) + data


PING_FRAME = head(FINAL | PING, 0)


def close(code: int, reason: str = "") -> bytes:
    """A close frame; with code 1005 an empty one. Raises ValueError for what cannot be sent."""
    data = b""
    if code != NO_CODE:
        try:
            data = Close(code, reason).serialize()
        except ProtocolError:
            raise ValueError(f"{code} is no code that a close frame may have") from None
    if len(data) > SHORT:
        raise ValueError(f"the reason is longer than {REASON} bytes")
    return head(FINAL | CLOSE, len(data)) + data


def _long(digits: bytes | bytearray) -> int:
    """The length of a payload that the second byte has no room for (§5.2)."""
    length = int.from_bytes(digits)
    if length <= SHORT or (len(digits) == 8 and not 0xFFFF < length < 1 << 63):
        raise Violation(BROKEN, "a length that is not in its shortest form")
    return length
