"""Damage: to bytes, to lines, to numbers, and by mixing one stream with another."""

import itertools
import re
from collections.abc import Callable, Sequence
from random import Random

NUMBER = re.compile(rb"[0-9A-Fa-f]+")
ODD_NUMBERS = (
    *(b"0", b"-1", b"+1", b"1_0", b"0x1", b"00001", b"127", b"128", b"255", b"65535", b"65536"),
    *(b"2147483647", b"2147483648", b"4294967295", b"9223372036854775807", b"ffffffffffffffff"),
    *(b"", b" ", b"1 1", b"1,1", b"\xb2", b"9" * 30),
)
ODD_BYTES = b'\x00\r\n\t \x0b\x0c\x7f\x80\x85\xa0\xff:;,="\\/?#@[]%*()'
LONGEST = 1 << 17  # bytes of what comes out

Mutation = Callable[[Random, bytearray], None]


def place(random: Random, data: bytearray) -> int:
    return random.randrange(len(data) + 1)


def flip(random: Random, data: bytearray) -> None:
    if data:
        data[random.randrange(len(data))] ^= 1 << random.randrange(8)


def put(random: Random, data: bytearray) -> None:
    at = place(random, data)
    data[at:at] = bytes([random.choice(ODD_BYTES)]) * random.choice((1, 1, 1, 2, 50))


def replace(random: Random, data: bytearray) -> None:
    at = place(random, data)
    data[at : at + random.choice((1, 1, 2, 4, 8))] = random.randbytes(
        random.choice((1, 1, 2, 4, 8))
    )


def cut_out(random: Random, data: bytearray) -> None:
    at = place(random, data)
    del data[at : at + random.choice((1, 1, 2, 3, 10, 100))]


def cut_off(random: Random, data: bytearray) -> None:
    del data[place(random, data) :]


def repeat(random: Random, data: bytearray) -> None:
    at = place(random, data)
    piece = data[at : at + random.choice((1, 2, 4, 16, 64, 256))]
    data[at:at] = piece * random.choice((1, 1, 1, 3, 20, 300))


def renumber(random: Random, data: bytearray) -> None:
    found = list(NUMBER.finditer(data))
    if found:
        start, end = random.choice(found).span()
        data[start:end] = random.choice(ODD_NUMBERS)


def rearrange_lines(random: Random, data: bytearray) -> None:
    lines = bytes(data).split(b"\r\n")
    at, other = random.randrange(len(lines)), random.randrange(len(lines))
    how = random.randrange(5)
    if how == 0:
        lines[at], lines[other] = lines[other], lines[at]
    elif how == 1:
        lines.insert(at, lines[other])
    elif how == 2:
        del lines[at]
    elif how == 3:
        lines[at] = random.choice((b" ", b"\t", b"x")) + lines[at]
    end = random.choice((b"\r\n", b"\r\n", b"\n", b"\r")) if how == 4 else b"\r\n"
    data[:] = end.join(lines)


DAMAGE: Sequence[Mutation] = (
    *(flip, put, replace, cut_out, cut_off, repeat, renumber, renumber, rearrange_lines),
    rearrange_lines,
)


def mutate(random: Random, corpus: Sequence[bytes], words: Sequence[bytes]) -> bytes:
    """A stream of the corpus, or several, damaged a few times."""
    data = bytearray().join(random.choices(corpus, k=random.choice((1, 1, 2, 3))))
    if random.random() < 0.2:  # the beginning of one and the end of another
        other = random.choice(corpus)
        data[place(random, data) :] = other[random.randrange(len(other) + 1) :]
    for _ in range(random.choice((0, 1, 1, 2, 3, 6))):
        if words and random.random() < 0.3:
            at = place(random, data)
            data[at:at] = random.choice(words)
        else:
            random.choice(DAMAGE)(random, data)
    return bytes(data[:LONGEST])


def cut(random: Random, data: bytes) -> list[bytes]:
    """Into pieces as they may come: at once, by single bytes, or anyhow."""
    how = random.randrange(4)
    if how == 0 or not data:
        return [data] if data else []
    if how == 1 and len(data) < 2000:
        return [data[at : at + 1] for at in range(len(data))]
    cuts = sorted(random.randrange(len(data) + 1) for _ in range(random.choice((1, 2, 5, 20))))
    edges = [0, *cuts, len(data)]
    return [data[a:b] for a, b in itertools.pairwise(edges) if a < b]
