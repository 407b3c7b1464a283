"""HTTP/2's request heads, table by table, each with what it costs and where that is written."""

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clusterd.core.errors import PeerError
from clusterd.wire import http2_head
from clusterd.wire.http2_head import Head, Malformed, judge, judge_trailers
from clusterd.wire.limits import Limits
from clusterd.wire.request import BODYLESS, CHUNKED

Field = tuple[bytes, bytes]
METHOD, SCHEME = (b":method", b"GET"), (b":scheme", b"https")
AUTHORITY, PATH = (b":authority", b"a.example:80"), (b":path", b"/p?q")
LIMITS = Limits()
USUAL = [METHOD, SCHEME, AUTHORITY, PATH]


def without(name: bytes) -> list[Field]:
    return [field for field in USUAL if field[0] != name]


def instead(name: bytes, value: bytes) -> list[Field]:
    return [(key, value if key == name else old) for key, old in USUAL]


def told(block: list[Field], ended: bool = True, limits: Limits = LIMITS) -> Head:
    """What is told, and told again of the same once it is known."""
    first = judge(block, ended, limits)
    assert judge(block, ended, limits) == first
    return first


def test_what_is_told_of_a_head() -> None:
    head = told([*USUAL, (b"x-y", b"z"), (b"te", b"trailers")])
    assert head.asked == ("GET", "/p", b"/p", b"q")
    assert head.headers == [(b"host", b"a.example:80"), (b"x-y", b"z"), (b"te", b"trailers")]
    assert (head.length, head.expects, head.told) == (BODYLESS, False, False)
    assert told(USUAL, ended=False).length == CHUNKED


MALFORMED: dict[str, Any] = {
    # §8.3: pseudo-headers
    "no :method": without(b":method"),
    "no :scheme": without(b":scheme"),
    "no :path": without(b":path"),
    "nothing": [],
    "an empty :method": instead(b":method", b""),
    "no token for a :method": instead(b":method", b"GET /"),
    "a repeated :method": [METHOD, *USUAL],
    "a repeated :path": [*USUAL, PATH],
    "a repeated :authority": [*USUAL, AUTHORITY],
    "an unknown one": [*USUAL, (b":x", b"y")],
    "one of answers": [*USUAL, (b":status", b"200")],
    "one without a name": [*USUAL, (b":", b"y")],
    "extended CONNECT (RFC 8441), which is not offered": [
        *instead(b":method", b"CONNECT"),
        (b":protocol", b"websocket"),
    ],
    "one after a header": [METHOD, SCHEME, (b"x", b"y"), AUTHORITY, PATH],
    "one in capitals": [*USUAL, (b":Path", b"/")],
    # §8.3.1
    "an empty :path": instead(b":path", b""),
    "an empty :scheme": instead(b":scheme", b""),
    "a :path that is none": instead(b":path", b"p"),
    "a :path with scheme and authority": instead(b":path", b"http://b/"),
    "a Host that says otherwise": [*USUAL, (b"host", b"b.example")],
    "a Host of another port": [*USUAL, (b"host", b"a.example:8080")],
    # §8.2: names in lower case, without what the grammar of fields has not
    "a capital": [*USUAL, (b"X-y", b"z")],
    "a blank in a name": [*USUAL, (b"x y", b"z")],
    "a blank after a name": [*USUAL, (b"x ", b"z")],
    "a colon in a name": [*USUAL, (b"x:y", b"z")],
    "no name": [*USUAL, (b"", b"z")],
    "CR LF in a name": [*USUAL, (b"x\r\ny", b"z")],
    "beyond ASCII in a name": [*USUAL, (b"x\xe9", b"z")],
    # §8.2.1
    "NUL in a value": [*USUAL, (b"x", b"a\0b")],
    "CR in a value": [*USUAL, (b"x", b"a\rb")],
    "LF in a value": [*USUAL, (b"x", b"a\nb")],
    "DEL in a value": [*USUAL, (b"x", b"a\x7fb")],
    "a blank before a value": [*USUAL, (b"x", b" a")],
    "a tab after a value": [*USUAL, (b"x", b"a\t")],
    # §8.2.2
    "Connection": [*USUAL, (b"connection", b"close")],
    "Keep-Alive": [*USUAL, (b"keep-alive", b"timeout=5")],
    "Proxy-Connection": [*USUAL, (b"proxy-connection", b"keep-alive")],
    "Transfer-Encoding": [*USUAL, (b"transfer-encoding", b"chunked")],
    "Upgrade": [*USUAL, (b"upgrade", b"h2c")],
    "TE other than trailers": [*USUAL, (b"te", b"gzip")],
    # §8.1.1
    "Content-Length that is no number": [*USUAL, (b"content-length", b"5x")],
    "a signed Content-Length": [*USUAL, (b"content-length", b"+5")],
    "a negative Content-Length": [*USUAL, (b"content-length", b"-5")],
    "an empty Content-Length": [*USUAL, (b"content-length", b"")],
    "a list of Content-Lengths": [*USUAL, (b"content-length", b"0, 0")],
    "two Content-Lengths": [*USUAL, (b"content-length", b"0"), (b"content-length", b"0")],
    "a Content-Length beyond all": [*USUAL, (b"content-length", b"9" * 30)],
    "a body that does not come": [*USUAL, (b"content-length", b"5")],
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_heads(name: str) -> None:
    """RFC 9113: each resets its stream. Twice: what was refused is not remembered as fine."""
    for _ in range(2):
        with pytest.raises(Malformed):
            judge(MALFORMED[name], True, Limits())


REFUSED: dict[str, tuple[int, list[Field]]] = {
    "a method that nobody knows": (501, instead(b":method", b"BREW")),
    "a method in small letters": (501, instead(b":method", b"get")),
    "CONNECT (§8.5)": (501, [(b":method", b"CONNECT"), AUTHORITY]),
    "CONNECT with a path": (501, instead(b":method", b"CONNECT")),
    "another scheme": (400, instead(b":scheme", b"ftp")),
    "a scheme with more in it": (400, instead(b":scheme", b"https://b/x?")),
    "neither :authority nor Host (RFC 9112 §3.2)": (400, without(b":authority")),
    "two Hosts": (400, [*USUAL, *[(b"host", b"a.example:80")] * 2]),
    "an empty :authority": (400, instead(b":authority", b"")),
    "userinfo (§8.3.1)": (400, instead(b":authority", b"u:p@a.example")),
    "a path in it": (400, instead(b":authority", b"a.example/x")),
    "a comma in it": (400, instead(b":authority", b"a,b")),
    "a port beyond all": (400, instead(b":authority", b"a:65536")),
    "a port that is none": (400, instead(b":authority", b"a:b")),
    "a malformed Host alone": (400, [*without(b":authority"), (b"host", b"a b")]),
    "a blank in the :path": (400, instead(b":path", b"/a b")),
    "LF in the :path": (400, instead(b":path", b"/a\nb")),
    "beyond ASCII in the :path": (400, instead(b":path", b"/\xc3\xa9")),
    "a fragment": (400, instead(b":path", b"/a#b")),
    "* for GET": (400, instead(b":path", b"*")),
    "a long :path": (414, instead(b":path", b"/" + b"x" * 8192)),
    "many fields": (431, [*USUAL, *[(b"x", b"y")] * 101]),
    "long fields": (431, [*USUAL, *[(b"x", b"y" * 1000)] * 70]),
    "an expectation": (417, [*USUAL, (b"expect", b"wonders")]),
}


@pytest.mark.parametrize("name", REFUSED)
def test_heads_that_http_refuses(name: str) -> None:
    status, block = REFUSED[name]
    for _ in range(2):
        with pytest.raises(PeerError) as caught:
            judge(block, True, Limits())
        assert not isinstance(caught.value, Malformed)
        assert caught.value.status == status


def test_heads_that_are_fine() -> None:
    options = [(b":method", b"OPTIONS"), SCHEME, AUTHORITY, (b":path", b"*")]
    assert told(options).asked == ("OPTIONS", "*", b"*", b"")
    assert told([*USUAL, (b"host", b"a.example:80")]).headers == [(b"host", b"a.example:80")]
    assert told([*without(b":authority"), (b"host", b"b")]).headers == [(b"host", b"b")]
    assert told([*USUAL, (b"x", b"")]).headers[1] == (b"x", b"")
    assert told([*USUAL, (b"x", b"\xe9 \t!")]).headers[1] == (b"x", b"\xe9 \t!")
    assert told([*USUAL, (b"content-length", b"0")]).length == 0
    crumbs = [(b"cookie", b"a=1"), (b"x", b"y"), (b"cookie", b"b=2")]
    assert told([*USUAL, *crumbs]).headers[1:] == [(b"x", b"y"), (b"cookie", b"a=1; b=2")]
    assert told([*USUAL, (b"forwarded", b"for=b")]).told


def test_bodies_that_are_announced() -> None:
    assert told([*USUAL, (b"content-length", b"5")], ended=False).length == 5
    assert told([*USUAL, (b"expect", b"100-Continue")], ended=False).expects
    assert not told([*USUAL, (b"expect", b"100-continue")]).expects
    with pytest.raises(PeerError) as caught:
        judge([*USUAL, (b"content-length", b"11")], False, Limits(body=10))
    assert caught.value.status == 413


def test_trailers_have_to_be_well_formed_and_short() -> None:
    """§8.1: no pseudo-headers among them."""
    judge_trailers([(b"x-sum", b"1")], Limits())
    for block in ([PATH], [(b"X", b"y")], [(b"connection", b"close")], [(b"x", b"y")] * 105):
        with pytest.raises(PeerError):
            judge_trailers(block, Limits())


def test_what_is_remembered_is_bounded() -> None:
    for number in range(5000):
        name = b"x-%d" % number
        block = [METHOD, SCHEME, (b":authority", name), (b":path", b"/" + name), (name, b"y")]
        judge(block, True, Limits())
    for table in (http2_head._fields, http2_head._targets, http2_head._hosts):
        assert 0 < len(table) <= 2048


@given(
    st.lists(st.tuples(st.binary(max_size=12), st.binary(max_size=12)), max_size=8), st.booleans()
)
def test_any_block_is_a_request_or_the_client_s_error(block: list[Field], ended: bool) -> None:
    for made in (block, [*USUAL, *block]):
        with contextlib.suppress(PeerError):
            judge(made, ended, Limits())
