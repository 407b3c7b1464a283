"""Frames: what is a message, what is none, and that splitting the bytes changes nothing."""

import itertools
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame
from websockets.protocol import OPEN
from websockets.server import ServerProtocol

from tests.unit.wire.frames import Ear, closing, frame, heard

CONT, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
FINAL, RSV1, RSV2, RSV3 = 0x80, 0x40, 0x20, 0x10
EURO = "€".encode()


def packed(data: bytes, keep: bool = False) -> bytes:
    """Compressed as RFC 7692 §7.2.1 wants it."""
    packer = zlib.compressobj(wbits=-12)
    whole = packer.compress(data) + packer.flush(zlib.Z_SYNC_FLUSH)
    return whole if keep else whole[:-4]


# What a client may send, and what is heard of it.
GOOD: dict[str, tuple[bytes, list[object]]] = {
    "§5.7 text": (frame(FINAL | TEXT, b"Hello"), ["Hello"]),
    "§5.7 text in fragments": (frame(TEXT, b"Hel") + frame(FINAL | CONT, b"lo"), ["Hello"]),
    "§5.7 binary, 256 bytes": (frame(FINAL | BINARY, bytes(256)), [bytes(256)]),
    "§5.7 binary, 64 kB": (frame(FINAL | BINARY, bytes(65536)), [bytes(65536)]),
    "§5.6 empty text": (frame(FINAL | TEXT), [""]),
    "§5.6 empty binary": (frame(FINAL | BINARY), [b""]),
    "125 bytes": (frame(FINAL | TEXT, b"a" * 125), ["a" * 125]),
    "126 bytes": (frame(FINAL | TEXT, b"a" * 126), ["a" * 126]),
    "65535 bytes": (frame(FINAL | BINARY, b"a" * 65535), [b"a" * 65535]),
    "§5.3 a mask of zeros": (frame(FINAL | TEXT, b"abc", mask=bytes(4)), ["abc"]),
    "two in a row": (frame(FINAL | TEXT, b"1") + frame(FINAL | BINARY, b"2"), ["1", b"2"]),
    "§5.5.2 ping": (frame(FINAL | PING, b"x"), [("ping", b"x")]),
    "§5.5.2 ping of 125": (frame(FINAL | PING, bytes(125)), [("ping", bytes(125))]),
    "§5.5.3 pong": (frame(FINAL | PONG, b"x"), ["pong"]),
    "§5.4 ping between fragments": (
        frame(TEXT, b"a") + frame(FINAL | PING) + frame(CONT, b"b") + frame(FINAL | CONT, b"c"),
        [("ping", b""), "abc"],
    ),
    "§5.4 empty fragments": (
        frame(BINARY) + frame(CONT) + frame(CONT, b"x") + frame(FINAL | CONT),
        [b"x"],
    ),
    "§5.6 a character torn by fragments": (
        frame(TEXT, EURO[:1]) + frame(CONT, EURO[1:2]) + frame(FINAL | CONT, EURO[2:]),
        ["€"],
    ),
    "§5.5.1 close": (closing(1000, b"bye"), [("close", 1000, "bye")]),
    "§7.1.5 close without a code": (frame(FINAL | CLOSE), [("close", 1005, "")]),
    "§5.5.1 nothing after a close": (
        closing(1001) + frame(FINAL | TEXT, b"x") + b"\xff\xff",
        [("close", 1001, "")],
    ),
    "§5.5.1 close between fragments": (
        frame(TEXT, b"a") + closing(1000),
        [("close", 1000, "")],
    ),
    "§5.5.1 the longest reason": (closing(1000, b"a" * 123), [("close", 1000, "a" * 123)]),
}

# What it may not, and the close code it earns after whatever was heard before.
BAD: dict[str, tuple[bytes, int]] = {
    "§5.1 no mask": (bytes((FINAL | TEXT, 1)) + b"a", 1002),
    "§5.1 ping without a mask": (bytes((FINAL | PING, 0)), 1002),
    **{
        f"§5.2 reserved bits {bits:02x} of {opcode:x}": (frame(FINAL | bits | opcode), 1002)
        for bits in (RSV1, RSV2, RSV3, RSV1 | RSV2, RSV1 | RSV2 | RSV3)
        for opcode in (CONT, TEXT, BINARY, CLOSE, PING, PONG)
    },
    **{
        f"§5.2 opcode {opcode:x} final {final:02x}": (frame(final | opcode, b"x"), 1002)
        for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)
        for final in (0, FINAL)
    },
    **{
        f"§5.5 {opcode:x} in fragments": (frame(opcode, b""), 1002)
        for opcode in (CLOSE, PING, PONG)
    },
    **{
        f"§5.5 {opcode:x} of {size} bytes": (frame(FINAL | opcode, bytes(size)), 1002)
        for opcode in (CLOSE, PING, PONG)
        for size in (126, 1000, 65536)
    },
    **{
        f"§5.2 {size} bytes, length in 16 bits": (
            frame(FINAL | BINARY, bytes(size), length=b"\xfe" + size.to_bytes(2)),
            1002,
        )
        for size in (0, 1, 125)
    },
    **{
        f"§5.2 {size} bytes, length in 64 bits": (
            frame(FINAL | BINARY, bytes(size), length=b"\xff" + size.to_bytes(8)),
            1002,
        )
        for size in (0, 125, 126, 65535)
    },
    "§5.2 the length's highest bit": (frame(FINAL | TEXT, length=b"\xff\x80" + bytes(7)), 1002),
    "§5.4 continuation of nothing": (frame(FINAL | CONT, b"x"), 1002),
    "§5.4 fragment of nothing": (frame(CONT, b"x"), 1002),
    "§5.4 text within a text": (frame(TEXT, b"x") + frame(FINAL | TEXT, b"y"), 1002),
    "§5.4 binary within a text": (frame(TEXT, b"x") + frame(FINAL | BINARY, b"y"), 1002),
    "§5.4 a second beginning": (frame(TEXT, b"x") + frame(TEXT, b"y"), 1002),
    "§5.4 text after the end": (
        frame(TEXT, b"x") + frame(FINAL | CONT) + frame(FINAL | CONT, b"y"),
        1002,
    ),
    "§5.5.1 close with one byte": (frame(FINAL | CLOSE, b"\x03"), 1002),
    "§5.5.1 close reason not UTF-8": (closing(1000, b"\xff"), 1007),
    **{
        f"§8.1 {name}": (frame(FINAL | TEXT, data), 1007)
        for name, data in {
            "a lone continuation": b"\x80",
            "an overlong slash": b"\xc0\xaf",
            "overlong in three": b"\xe0\x80\xaf",
            "overlong NUL": b"\xc0\x80",
            "a surrogate": b"\xed\xa0\x80",
            "beyond U+10FFFF": b"\xf4\x90\x80\x80",
            "five bytes": b"\xf8\x88\x80\x80\x80",
            "a byte that never is": b"abc\xfe",
            "a torn end": EURO[:2],
        }.items()
    },
    "§8.1 a torn end in fragments": (frame(TEXT, EURO[:1]) + frame(FINAL | CONT, EURO[1:2]), 1007),
    "one byte too long": (frame(FINAL | BINARY, bytes(70001)), 1009),
    "too long, in 64 bits": (frame(FINAL | BINARY, length=b"\xff\x7f" + b"\xff" * 7), 1009),
    "too long in fragments": (frame(BINARY, bytes(70000)) + frame(FINAL | CONT, b"x"), 1009),
    "a fragment too long": (frame(TEXT, length=b"\xff" + (70001).to_bytes(8)), 1009),
}
ROOM = 70000


@pytest.mark.parametrize("name", GOOD)
def test_what_is_a_message(name: str) -> None:
    data, expected = GOOD[name]
    assert heard(data, limit=ROOM) == expected


@pytest.mark.parametrize("name", BAD)
def test_what_is_none_has_its_close_code(name: str) -> None:
    """And what came before it was heard."""
    data, code = BAD[name]
    before, expected = GOOD["two in a row"]
    assert heard(before + data, limit=ROOM)[: len(expected)] == expected
    assert heard(before + data, limit=ROOM)[-1] == code


def valid_codes() -> set[int]:
    """§7.4.1, §7.4.2, IANA: 1004 means nothing, and 1005, 1006 and 1015 are never sent."""
    return {1000, 1001, 1002, 1003, *range(1007, 1015), *range(3000, 5000)}


def test_every_close_code_from_0_to_5000() -> None:
    for code in (*range(5001), 65535):
        expected = ("close", code, "") if code in valid_codes() else 1002
        assert heard(closing(code)) == [expected], code


COMPRESSED: dict[str, tuple[bytes, list[object]]] = {
    "RFC 7692 §7.2.3.1": (
        frame(FINAL | RSV1 | TEXT, bytes((0xF2, 0x48, 0xCD, 0xC9, 0xC9, 0x07, 0x00))),
        ["Hello"],
    ),
    "RFC 7692 §7.2.3.1 in fragments": (
        frame(RSV1 | TEXT, bytes((0xF2, 0x48, 0xCD)))
        + frame(FINAL | CONT, bytes((0xC9, 0xC9, 0x07, 0x00))),
        ["Hello"],
    ),
    "RFC 7692 §7.2.3.2 with the window of before": (
        frame(FINAL | RSV1 | TEXT, bytes((0xF2, 0x48, 0xCD, 0xC9, 0xC9, 0x07, 0x00)))
        + frame(FINAL | RSV1 | TEXT, bytes((0xF2, 0x00, 0x11, 0x00, 0x00))),
        ["Hello", "Hello"],
    ),
    "RFC 7692 §7.2.3.3 a block without compression": (
        frame(FINAL | RSV1 | TEXT, b"\x00\x05\x00\xfa\xffHello\x00"),
        ["Hello"],
    ),
    "RFC 7692 §6 not compressed": (frame(FINAL | TEXT, b"Hello"), ["Hello"]),
    "binary": (frame(FINAL | RSV1 | BINARY, packed(bytes(900))), [bytes(900)]),
    "as long as may be": (frame(FINAL | RSV1 | TEXT, packed(b"a" * 1000)), ["a" * 1000]),
    "ping between": (
        frame(RSV1 | BINARY, packed(b"ab", keep=True))
        + frame(FINAL | PING)
        + frame(FINAL | CONT, b""),
        [("ping", b""), b"ab"],
    ),
    "a bomb": (frame(FINAL | RSV1 | BINARY, packed(bytes(1001))), [1009]),
    "a bomb in fragments": (
        frame(RSV1 | BINARY, packed(bytes(600), keep=True))
        + frame(CONT, packed(bytes(400), keep=True))
        + frame(FINAL | CONT, packed(b"x")),
        [1009],
    ),
    "too long to be worth a look": (frame(FINAL | RSV1 | BINARY, bytes(2000)), [1009]),
    "not UTF-8": (frame(FINAL | RSV1 | TEXT, packed(b"\xff")), [1007]),
    "no deflate": (frame(FINAL | RSV1 | TEXT, b"\xff\xff\xff"), [1007]),
    "§6.1 the bit on a continuation": (
        frame(RSV1 | TEXT, b"\xf2\x48") + frame(FINAL | RSV1 | CONT, b"\xcd"),
        [1002],
    ),
    "§6.1 the bit on a ping": (frame(FINAL | RSV1 | PING), [1002]),
    "RSV2": (frame(FINAL | RSV1 | RSV2 | TEXT, packed(b"x")), [1002]),
}


@pytest.mark.parametrize("name", COMPRESSED)
def test_compression(name: str) -> None:
    data, expected = COMPRESSED[name]
    assert heard(data, compresses=True) == expected


@pytest.mark.parametrize(
    ("data", "limit", "compresses"),
    [
        pytest.param(data, ROOM, False, id=name)
        for name, (data, _) in itertools.chain(GOOD.items(), BAD.items())
        if len(data) < 700
    ]
    + [pytest.param(data, 1000, True, id=name) for name, (data, _) in COMPRESSED.items()]
    + [
        pytest.param(
            b"".join(data for data, _ in GOOD.values() if len(data) < 200 and data[:1] != b"\x88"),
            ROOM,
            False,
            id="all in a row",
        )
    ],
)
def test_any_split_gives_the_same(data: bytes, limit: int, compresses: bool) -> None:
    whole = heard(data, limit=limit, compresses=compresses)
    assert whole
    for size in range(1, len(data)):
        pieces = [data[at : at + size] for at in range(0, len(data), size)]
        assert heard(*pieces, limit=limit, compresses=compresses) == whole
    for cut in range(1, len(data)):
        assert heard(data[:cut], data[cut:], limit=limit, compresses=compresses) == whole


class Shy(Ear):
    """Takes one message at a time."""

    def on_message(self, data: str | bytes) -> None:
        super().on_message(data)
        self.is_full = True

    def take_all(self) -> list[object]:
        while self.is_full:
            self.is_full = False
            self.take(b"")
        return self.heard


def test_reading_stops_after_a_message_that_fills_and_goes_on_where_it_was() -> None:
    data = b"".join(data for data, _ in GOOD.values() if len(data) < 200 and data[:1] != b"\x88")
    for cut in range(1, len(data)):
        shy = Shy(ROOM)
        shy.take(data[:cut], data[cut:])
        assert sum(isinstance(event, str | bytes) for event in shy.heard if event != "pong") == 1
        assert shy.take_all() == heard(data, limit=ROOM)


@given(st.lists(st.binary(max_size=300), max_size=8), st.booleans())
def test_no_bytes_end_in_anything_but_a_close_code(pieces: list[bytes], compresses: bool) -> None:
    for event in heard(*pieces, compresses=compresses):
        assert not isinstance(event, int) or event in (1002, 1007, 1009)


HEADS = st.sampled_from([0x81, 0x82, 0x01, 0x02, 0x00, 0x80, 0x89, 0x8A, 0x88, 0xC1, 0xC2, 0x41])
FRAMES = st.lists(st.tuples(HEADS, st.binary(max_size=140)), max_size=8)


@given(FRAMES, st.booleans(), st.integers(1, 40))
def test_frames_of_any_kind_in_any_order_agree_with_another_reader(
    frames: list[tuple[int, bytes]], compresses: bool, size: int
) -> None:
    """The `websockets` package reads the same: both hear as many frames, or both refuse."""
    data = b"".join(frame(first, payload) for first, payload in frames)
    ours = heard(*[data[at : at + size] for at in range(0, len(data), size)], compresses=compresses)
    theirs = ServerProtocol(state=OPEN, max_size=1000)
    if compresses:
        theirs.extensions = [Ear(compresses=True)._deflate]  # type: ignore[list-item]
    theirs.receive_data(data)
    messages = assembled(theirs)
    code = theirs.close_sent.code if theirs.close_sent and not theirs.close_rcvd else None
    if messages is None:
        assert 1007 in ours
    elif code is None and not any(isinstance(event, int) for event in ours):
        assert [event for event in ours if isinstance(event, str | bytes) and event != "pong"] == [
            message for message in messages if message != "pong"
        ]
    else:
        # They look at a frame's payload first, and do not know what a text is.
        assert any(isinstance(event, int) for event in ours)


def assembled(protocol: ServerProtocol) -> list[str | bytes] | None:
    """The messages of the other reader's frames; None if one is not UTF-8."""
    messages: list[str | bytes] = []
    whole = b""
    is_text = False
    for event in protocol.events_received():
        assert isinstance(event, Frame)
        if event.opcode in (TEXT, BINARY):
            whole, is_text = bytes(event.data), event.opcode == TEXT
        elif event.opcode == CONT:
            whole += bytes(event.data)
        if event.opcode < CLOSE and event.fin:
            try:
                messages.append(whole.decode() if is_text else whole)
            except UnicodeDecodeError:
                return None
    return messages


BROKEN_TEXT = b"ab\xce\xba\xed\xa0\x80"  # a lone surrogate, as Autobahn's 6.4 has it


@pytest.mark.parametrize(
    ("begun", "enough"),
    [
        (frame(TEXT, b"fine") + frame(CONT, BROKEN_TEXT), True),
        (frame(TEXT, b"fine") + frame(CONT, b"\xce") + frame(CONT, b"x"), True),
        (frame(TEXT, b"fine") + frame(CONT, b"\xce"), False),
        (frame(TEXT, BROKEN_TEXT), True),
        (frame(FINAL | TEXT, BROKEN_TEXT + b"x" * 500)[:16], True),
        (frame(FINAL | TEXT, b"y" * 300 + BROKEN_TEXT + b"x" * 500)[:320], True),
        (frame(FINAL | TEXT, b"y" * 300 + BROKEN_TEXT + b"x" * 500)[:300], False),
        (frame(TEXT, b"a\xce") + frame(CONT, b"\xba" + BROKEN_TEXT + b"x" * 200)[:20], True),
        (frame(TEXT, b"a\xce") + frame(FINAL | CONT, b"\xba" + b"fine" * 9)[:20], False),
        (frame(FINAL | BINARY, BROKEN_TEXT * 20)[:100], False),
        (frame(BINARY, BROKEN_TEXT) + frame(CONT, BROKEN_TEXT * 20)[:100], False),
    ],
)
def test_broken_text_is_found_before_its_message_is_whole(begun: bytes, enough: bool) -> None:
    """§8.1, at once: however the bytes are cut."""
    for size in (1, 2, 7, len(begun)):
        pieces = [begun[at : at + size] for at in range(0, len(begun), size)]
        assert Ear().take(*pieces) == ([1007] if enough else [])


def test_a_compressed_fragment_is_checked_when_it_is_whole() -> None:
    ear = Ear(compresses=True)
    assert ear.take(frame(RSV1 | TEXT, packed(BROKEN_TEXT, keep=True))) == [1007]


@given(st.text(max_size=400), st.lists(st.integers(1, 50), min_size=1), st.booleans())
def test_text_is_the_same_however_it_comes(text: str, cuts: list[int], split: bool) -> None:
    data = text.encode()
    middle = len(data) // 2 if split else 0
    sent = frame(TEXT, data[:middle]) + frame(FINAL | CONT, data[middle:])
    sent = (sent if split else frame(FINAL | TEXT, data)) + frame(FINAL | TEXT, b"end")
    pieces, sizes = [], itertools.cycle(cuts)
    while sent:
        size = next(sizes)
        pieces.append(sent[:size])
        sent = sent[size:]
    assert Ear(limit=10_000).take(*pieces) == [text, "end"]
