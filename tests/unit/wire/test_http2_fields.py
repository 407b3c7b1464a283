"""HTTP/2's answer heads: another's decoder reads them, and no app writes what it may not."""

from typing import Any

import pytest
from hpack import Decoder, NeverIndexedHeaderTuple
from hpack.table import HeaderTable
from hypothesis import given
from hypothesis import strategies as st

from clusterd.wire import http2_fields
from clusterd.wire.http2_fields import (
    NO_TABLE,
    STATIC,
    STATUSES,
    add_fields,
    integer,
    judge_fields,
    length_field,
    literal,
    status_field,
)
from clusterd.wire.response import SPECIAL, UNKNOWN, HeaderError


def decoded(block: bytes) -> list[tuple[bytes, bytes]]:
    return [(name, value) for name, value in Decoder().decode(block, raw=True)]


def added(*headers: Any) -> tuple[int, list[tuple[bytes, bytes]]]:
    """Twice, since what was judged is kept."""
    for _ in range(2):
        parts: list[bytes] = []
        length = add_fields(list(headers), parts)
    return length, decoded(b"".join(parts))


def test_the_static_table_is_the_rfc_s() -> None:
    """RFC 7541 appendix A, as hpack has it."""
    table = Decoder().header_table
    for name, index in STATIC.items():
        assert table.get_by_index(index)[0] == name
    for status, index in STATUSES.items():
        assert table.get_by_index(index) == (b":status", b"%d" % status)


@pytest.mark.parametrize("status", [100, 103, 200, 204, 206, 304, 400, 404, 418, 500, 503, 999])
def test_statuses(status: int) -> None:
    assert decoded(status_field(status)) == [(b":status", b"%d" % status)]


@given(
    st.from_regex(r"[a-z0-9-]{1,300}", fullmatch=True).map(str.encode) | st.sampled_from([*STATIC]),
    st.binary(max_size=20_000),
)
def test_any_field_is_read_as_it_was_written(name: bytes, value: bytes) -> None:
    assert decoded(literal(name, value)) == [(name, value)]


@given(st.integers(0, 2**40), st.integers(4, 7))
def test_integers(value: int, bits: int) -> None:
    """RFC 7541 §5.1, read as the RFC has it."""
    octets = integer(value, bits)
    most = (1 << bits) - 1
    found = octets[0] & most
    if found == most:
        for shift, octet in enumerate(octets[1:]):
            found += (octet & 127) << 7 * shift
    assert found == value


def test_nothing_is_remembered_by_either_side() -> None:
    decoder = Decoder()
    decoder.decode(NO_TABLE + status_field(200) + literal(b"x", b"y") + literal(b"etag", b"z"))
    assert not decoder.header_table.dynamic_entries
    assert decoder.header_table_size == 0


def test_cookies_are_not_to_be_remembered_on_the_way() -> None:
    """RFC 7541 §7.1.3."""
    (field,) = Decoder().decode(literal(b"set-cookie", b"a=1"), raw=True)
    assert isinstance(field, NeverIndexedHeaderTuple)


def test_headers_are_sent_as_http2_wants_them() -> None:
    """RFC 9113 §8.2: lower case, no blanks around values, nothing about the connection."""
    assert added((b"X-Y", b" z\t"), (b"content-type", b"text/plain")) == (
        UNKNOWN,
        [(b"x-y", b"z"), (b"content-type", b"text/plain")],
    )
    assert added((b"Content-Length", b"5"), (b"a", b"b")) == (5, [(b"a", b"b")])


@pytest.mark.parametrize(
    "name", [b"Connection", b"keep-alive", b"transfer-encoding", b"Upgrade", b"proxy-connection"]
)
def test_what_is_about_the_connection_is_left_out(name: bytes) -> None:
    assert add_fields([(name, b"x")], []) == SPECIAL
    judged = judge_fields(
        [(name, b"x"), [b"A", b"b"], (b"Date", b"now"), (b"content-length", b"3")]
    )
    assert decoded(b"".join(judged.lines)) == [(b"a", b"b"), (b"date", b"now")]
    assert judged.length == 3
    assert judged.names == {b"date"}


@pytest.mark.parametrize(
    "header",
    [
        (b"x", b"a\r\nb"),
        (b"x", b"a\0"),
        (b"x\n", b"a"),
        (b":status", b"200"),
        (b"", b"a"),
        (b"x", "a"),
        ("x", b"a"),
        (b"content-length", b"-1"),
        (b"content-length", b"x"),
        (b"x",),
        None,
    ],
)
def test_what_no_head_may_have_is_the_app_s_error(header: Any) -> None:
    for judge in (judge_fields, lambda headers: add_fields(headers, [])):
        with pytest.raises(HeaderError):
            judge([header])
            judge_fields([header])


def test_two_lengths_are_one_too_many() -> None:
    twice = [(b"content-length", b"5")] * 2
    assert add_fields(twice, []) == SPECIAL
    with pytest.raises(HeaderError):
        judge_fields(twice)


def test_what_is_remembered_is_bounded() -> None:
    for number in range(5000):
        add_fields([(b"x", b"%d" % number)], [])
        length_field(number)
    assert len(http2_fields._known) <= 2048
    assert len(http2_fields._lengths) <= 2048


def test_every_status_of_the_static_table_is_one_byte() -> None:
    """RFC 7541, appendix A."""
    known = enumerate(HeaderTable.STATIC_TABLE, 1)
    assert {int(value): number for number, (name, value) in known if name == b":status"} == STATUSES
