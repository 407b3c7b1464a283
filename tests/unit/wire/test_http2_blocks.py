"""Header blocks of HTTP/2: as the package hpack reads them, and no copy for each field."""

import random

import pytest
from h2.errors import ErrorCodes
from hpack import Decoder, Encoder
from hpack.exceptions import HPACKError

from clusterd.wire.http2_blocks import Decoded, Unreadable, is_pure
from clusterd.wire.http2_fields import literal

LONGEST, MOST = 70_000, 200
NAMES = [b":path", b"accept", b"cookie", b"x-a", b"x-" + b"n" * 200]
VALUES = [b"", b"/", b"1", b"v" * 126, b"w" * 127, b"\xff\x00 odd", b"z" * 5000]


def fields(dice: random.Random) -> list[tuple[bytes, bytes]]:
    return [(dice.choice(NAMES), dice.choice(VALUES)) for _ in range(dice.randrange(12))]


def blocks(dice: random.Random) -> list[bytes]:
    """What a client sends, one after another, with changes of its table."""
    encoder, found = Encoder(), []
    for _ in range(8):
        if dice.random() < 0.2:
            encoder.header_table_size = dice.choice([0, 100, 4096])
        found.append(encoder.encode(fields(dice), huffman=dice.random() < 0.5))
    return found


def theirs(decoder: Decoder, block: bytes) -> object:
    try:
        return [tuple(pair) for pair in decoder.decode(block, raw=True)]
    except HPACKError:
        return "unreadable"


def ours(decoder: Decoded, block: bytes) -> object:
    try:
        decoder.decode(block)
    except Unreadable:
        return "unreadable"
    return decoder.take()


@pytest.mark.parametrize("seed", range(40))
def test_blocks_mean_what_hpack_makes_of_them(seed: int) -> None:
    peer, decoder = Decoder(LONGEST), Decoded(LONGEST, MOST)
    for block in blocks(random.Random(seed)):
        assert ours(decoder, block) == theirs(peer, block)
        assert decoder.header_table.dynamic_entries == peer.header_table.dynamic_entries


@pytest.mark.parametrize("seed", range(40))
def test_damaged_blocks_mean_what_hpack_makes_of_them(seed: int) -> None:
    dice = random.Random(seed)
    peer, decoder = Decoder(LONGEST), Decoded(LONGEST, MOST)
    for block in blocks(dice):
        damaged = bytearray(block)
        for _ in range(dice.randrange(3)):
            if damaged:
                damaged[dice.randrange(len(damaged))] = dice.randrange(256)
        cut = bytes(damaged[: dice.randrange(len(damaged) + 1)])
        found = ours(decoder, cut)
        assert found == theirs(peer, cut)
        if found == "unreadable":
            return


@pytest.mark.parametrize(
    ("block", "code"),
    [
        (b"\x80", ErrorCodes.COMPRESSION_ERROR),  # there is no entry 0
        (b"\xbe", ErrorCodes.COMPRESSION_ERROR),  # nor one of the empty table
        (b"\x7e\1b", ErrorCodes.COMPRESSION_ERROR),
        (b"\xff", ErrorCodes.COMPRESSION_ERROR),  # half an integer
        (b"\xff" + b"\x80" * 5 + b"\x01", ErrorCodes.COMPRESSION_ERROR),  # a long one
        (b"\0", ErrorCodes.COMPRESSION_ERROR),  # half a field
        (b"\0\1a", ErrorCodes.COMPRESSION_ERROR),
        (b"\0\1a\5bc", ErrorCodes.COMPRESSION_ERROR),
        (b"\0\1a\x81\0", ErrorCodes.COMPRESSION_ERROR),  # Huffman's code, padded wrongly
        (b"\x3f\xe2\x1f", ErrorCodes.COMPRESSION_ERROR),  # a table of 4097 bytes
        (b"\x82\x20", ErrorCodes.COMPRESSION_ERROR),  # its size changed after a field
        (literal(b"a", b"b" * 4000) * 20, ErrorCodes.ENHANCE_YOUR_CALM),
        (b"\x82" * 2000, ErrorCodes.ENHANCE_YOUR_CALM),  # `:method: GET` counts for 42 bytes
    ],
)
def test_what_cannot_be_read_names_its_error(block: bytes, code: int) -> None:
    with pytest.raises(Unreadable) as caught:
        Decoded(LONGEST, MOST).decode(block)
    assert caught.value.code == code


def test_fields_beyond_the_most_are_dropped_and_still_change_the_table() -> None:
    decoder = Decoded(LONGEST, 3)
    decoder.decode(b"".join(b"\x40\1%c\1v" % letter for letter in b"abcde"))
    assert decoder.take() == [(b"a", b"v"), (b"b", b"v"), (b"c", b"v")]
    decoder.decode(b"\xbe")
    assert decoder.take() == [(b"e", b"v")]


def test_fields_are_kept_until_they_are_taken_and_no_longer() -> None:
    decoder = Decoded(LONGEST, MOST)
    decoder.decode(b"\x82")
    assert decoder.take() == [(b":method", b"GET")]
    assert decoder.take() == []


def test_a_block_is_pure_if_it_only_names_entries() -> None:
    assert is_pure(b"\x82\xbe")
    assert not is_pure(b"\x82\0\1a\1b")
    assert not is_pure(b"")
