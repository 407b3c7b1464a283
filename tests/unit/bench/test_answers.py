"""Where an answer ends, what it is, and what is refused because nobody could say."""

import pytest

from clusterd.bench.answers import CHUNKED, TO_THE_END, BadAnswer, Heads, Reader, read_head

PLAIN = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
PIECES = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n1\r\n!\r\n0\r\n\r\n"
)
TRAILED = PIECES[:-2] + b"Digest: none\r\nA: b\r\n\r\n"
EMPTY = b"HTTP/1.1 204 No Content\r\n\r\n"
INTERIM = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n" + PLAIN
MOVED = b"HTTP/1.1 304 Not Modified\r\nContent-Length: 500\r\n\r\n"
WHOLE = {
    "length": (PLAIN, 200, b"hello"),
    "chunks": (PIECES, 200, b"hello!"),
    "trailers": (TRAILED, 200, b"hello!"),
    "204": (EMPTY, 204, b""),
    "304 tells a length and has no body": (MOVED, 304, b""),
    "interim answers before it": (INTERIM, 200, b"hello"),
    "no reason": (b"HTTP/1.1 503\r\nContent-Length: 0\r\n\r\n", 503, b""),
    "the same length twice": (PLAIN.replace(b": 5", b": 5, 5"), 200, b"hello"),
}


@pytest.mark.parametrize(("sent", "status", "body"), WHOLE.values(), ids=WHOLE)
@pytest.mark.parametrize("step", [1, 2, 3, 7, 1000])
def test_an_answer_is_whole_with_its_last_byte(
    sent: bytes, status: int, body: bytes, step: int
) -> None:
    got: list[bytes] = []
    reader = Reader(Heads(), got.append)
    pieces = [sent[at : at + step] for at in range(0, len(sent), step)]

    said = []
    for piece in pieces:
        said.append(reader.take(piece))
        assert reader.begun is (said[-1] == 0)

    assert said == [0] * (len(pieces) - 1) + [status]
    assert b"".join(got) == body
    assert reader.size == len(sent)
    assert not reader.closes
    assert not reader.left


@pytest.mark.parametrize(("sent", "status", "body"), WHOLE.values(), ids=WHOLE)
def test_what_follows_an_answer_is_left(sent: bytes, status: int, body: bytes) -> None:
    reader = Reader(Heads())

    assert reader.take(sent + PIECES + PLAIN) == status
    assert reader.size == len(sent)
    assert reader.take(reader.left) == 200
    assert reader.size == len(PIECES)
    assert reader.take(reader.left) == 200
    assert reader.left == b""


def test_a_head_is_answered_without_the_body_that_it_tells_of() -> None:
    reader = Reader(Heads())

    assert reader.take(PLAIN[:-5], bodiless=True) == 200
    assert reader.take(PIECES[: PIECES.index(b"5;")], bodiless=True) == 200
    assert not reader.closes


def test_a_body_without_a_length_goes_to_the_end() -> None:
    reader = Reader(Heads())

    assert reader.take(b"HTTP/1.1 200 OK\r\n\r\nhello") == 0
    assert reader.take(b" and more") == 0
    assert reader.finish() == 200
    assert reader.closes
    assert reader.size == len(b"HTTP/1.1 200 OK\r\n\r\nhello and more")


@pytest.mark.parametrize("sent", [PLAIN, PIECES, INTERIM])
def test_an_end_in_the_middle_makes_no_answer_whole(sent: bytes) -> None:
    for size in range(len(sent)):
        reader = Reader(Heads())
        reader.take(sent[:size])
        assert reader.finish() == 0


@pytest.mark.parametrize(
    ("head", "closes"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", False),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: Keep-Alive, Close\r\n\r\n", True),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", True),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n", False),
        (b"HTTP/1.1 204 No Content\r\n\r\n", False),
        (b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n", True),
    ],
)
def test_a_connection_ends_as_announced(head: bytes, closes: bool) -> None:
    reader = Reader(Heads())

    assert reader.take(head)
    assert reader.closes is closes


def test_a_reader_of_a_new_connection_has_forgotten_the_old_one() -> None:
    reader = Reader(Heads())
    reader.take(PLAIN[:-1])

    reader.reset()

    assert not reader.begun
    assert reader.take(PLAIN) == 200


BEGUN = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
BAD = {
    "TLS": b"\x15\x03\x03\x00\x02\x02\x46",
    "HTTP/2": b"HTTP/2.0 200 OK\r\n\r\n",
    "a status of two digits": b"HTTP/1.1 20 OK\r\n\r\n",
    "a field without a colon": b"HTTP/1.1 200 OK\r\nnonsense\r\n\r\n",
    "a name with a space": b"HTTP/1.1 200 OK\r\nContent-Length : 5\r\n\r\n",
    "a folded field": b"HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
    "a negative length": b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
    "an endless length": b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 16 + b"\r\n\r\n",
    "no chunk size": BEGUN + b"hello\r\n",
    "a chunk that is too long": BEGUN + b"1\r\nhello\r\n",
    "a chunk's line without end": BEGUN + b"0" * 9000,
    "another protocol": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
    "lines that end with LF": b"HTTP/1.1 200 OK\nContent-Length: 2\n\nhi",
    "a head without end": b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 20000,
}


@pytest.mark.parametrize("sent", BAD.values(), ids=BAD)
def test_what_could_be_read_in_two_ways_is_refused(sent: bytes) -> None:
    with pytest.raises(BadAnswer):
        Reader(Heads()).take(sent)


def test_transfer_encoding_outweighs_a_length() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: gzip, chunked\r\n\r\n"

    assert read_head(head).length == CHUNKED
    assert read_head(head.replace(b", chunked", b"")).length == TO_THE_END


def test_a_field_is_found_by_its_name() -> None:
    head = read_head(b"HTTP/1.1 200 OK\r\nA: 1\r\nCONTENT-TYPE:  text/plain \r\nA: 2\r\n\r\n")

    assert head.field(b"content-type") == b"text/plain"
    assert head.field(b"a") == b"1"
    assert head.field(b"b") == b""


def test_heads_that_are_never_the_same_do_not_pile_up() -> None:
    heads = Heads()
    for number in range(2000):
        text = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX: %d\r\n\r\n" % number
        assert heads.read(text).field(b"x") == b"%d" % number

    assert len(heads._known) <= 512
