"""The handshake: what is one, what is answered to what is none, and what is agreed on."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clusterd.wire.heads import Pair
from clusterd.wire.upgrade import Refused, Upgrade, judge, switch

KEY = (b"sec-websocket-key", b"dGhlIHNhbXBsZSBub25jZQ==")
VERSION = (b"sec-websocket-version", b"13")


def asked(*more: Pair, compress: bool = True) -> Upgrade:
    return judge("GET", [KEY, VERSION, *more], compress)


def extensions(value: bytes) -> Pair:
    return (b"sec-websocket-extensions", value)


def test_the_key_of_the_specification() -> None:
    """§1.3's example, and the order in which the answer has its headers."""
    head = switch(asked(), None, [b"date: today\r\n"])
    assert head == (
        b"HTTP/1.1 101 Switching Protocols\r\ndate: today\r\nupgrade: websocket\r\n"
        b"connection: Upgrade\r\nsec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
    )


REFUSED: dict[str, tuple[list[Pair], int]] = {
    "§4.2.1 no key": ([VERSION], 400),
    "§4.2.1 two keys": ([KEY, KEY, VERSION], 400),
    "§4.2.1 an empty key": ([(KEY[0], b""), VERSION], 400),
    "§4.2.1 a key of 15 bytes": ([(KEY[0], b"AAAAAAAAAAAAAAAAAAAA"), VERSION], 400),
    "§4.2.1 a key of 17 bytes": ([(KEY[0], b"AAAAAAAAAAAAAAAAAAAAAAA="), VERSION], 400),
    "§4.2.1 a key that is not base64": ([(KEY[0], b"dGhlIHNhbXBsZSBub25j*Q=="), VERSION], 400),
    "§4.2.1 a key without padding": ([(KEY[0], b"dGhlIHNhbXBsZSBub25jZQ"), VERSION], 400),
    "§4.2.1 bytes beyond ASCII": ([(KEY[0], b"\xff" * 24), VERSION], 400),
    "§4.4 no version": ([KEY], 426),
    "§4.4 version 8": ([KEY, (VERSION[0], b"8")], 426),
    "§4.4 version 013": ([KEY, (VERSION[0], b"013")], 426),
    "§4.4 versions": ([KEY, (VERSION[0], b"13, 8")], 426),
    "§4.4 two versions": ([KEY, VERSION, VERSION], 426),
    "§4.1 a subprotocol beyond ASCII": ([KEY, VERSION, (b"sec-websocket-protocol", b"\xe9")], 400),
    "§4.1 a subprotocol with a blank": ([KEY, VERSION, (b"sec-websocket-protocol", b"a b")], 400),
    "§9.1 extensions": ([KEY, VERSION, extensions(b"a;;")], 400),
    "§9.1 extensions beyond ASCII": ([KEY, VERSION, extensions(b'a; b="\xff"')], 400),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_handshake(name: str) -> None:
    headers, status = REFUSED[name]
    with pytest.raises(Refused) as refused:
        judge("GET", headers, compress=True)
    assert refused.value.status == status
    assert (b"sec-websocket-version: 13\r\n" in refused.value.lines) is (status == 426)


def test_a_handshake_is_a_get() -> None:
    with pytest.raises(Refused) as refused:
        judge("POST", [KEY, VERSION], compress=True)
    assert (refused.value.status, refused.value.lines) == (405, b"allow: GET\r\n")


def test_subprotocols_in_the_client_s_order_from_all_lines() -> None:
    upgrade = asked((b"sec-websocket-protocol", b"soap, wamp"), (b"sec-websocket-protocol", b"x.y"))
    assert upgrade.subprotocols == ["soap", "wamp", "x.y"]
    assert asked().subprotocols == []
    assert b"sec-websocket-protocol: wamp\r\n" in switch(upgrade, "wamp", [])


BITS = b"permessage-deflate; server_max_window_bits=12; client_max_window_bits=%d"
UNBOUND = b"permessage-deflate; client_no_context_takeover; server_max_window_bits=12"
AGREED = {
    b"permessage-deflate": UNBOUND,
    b"permessage-deflate; client_max_window_bits": BITS % 12,
    b"permessage-deflate; client_max_window_bits=9": BITS % 9,
    b"permessage-deflate; client_max_window_bits=15": BITS % 12,
    b"permessage-deflate; server_max_window_bits=10": UNBOUND[:-1] + b"0",
    b"permessage-deflate; server_no_context_takeover; client_no_context_takeover": (
        b"permessage-deflate; server_no_context_takeover; client_no_context_takeover; "
        b"server_max_window_bits=12"
    ),
    # RFC 7692 §7.1: what cannot be had is declined, and the next offer is looked at.
    b"permessage-deflate; server_max_window_bits=8": b"",
    b"permessage-deflate; server_no_context_takeover; server_max_window_bits=8": b"",
    b"permessage-deflate; server_max_window_bits=99": b"",
    b"permessage-deflate; unheard_of": b"",
    b"permessage-deflate; client_no_context_takeover=1": b"",
    b"permessage-deflate; server_max_window_bits=8, permessage-deflate": UNBOUND,
    b"x-unheard-of; a=b": b"",
    b"x-unheard-of, permessage-deflate": UNBOUND,
}


@pytest.mark.parametrize("offer", AGREED)
def test_what_is_agreed_on_of_compression(offer: bytes) -> None:
    """RFC 7692 §7.1: the windows are 4 kB, and where the client has a larger one it is not kept."""
    agreed = AGREED[offer]
    upgrade = asked(extensions(offer))
    assert (upgrade.deflate is not None) is bool(agreed)
    line = b"sec-websocket-extensions: %b\r\n" % agreed
    assert upgrade.lines.endswith(line) if agreed else b"extensions" not in upgrade.lines
    assert asked(extensions(offer), compress=False).deflate is None


@given(st.binary(max_size=60), st.binary(max_size=60), st.binary(max_size=30))
def test_no_headers_end_in_anything_but_a_refusal(one: bytes, two: bytes, key: bytes) -> None:
    headers = [(KEY[0], key), KEY, VERSION, (b"sec-websocket-protocol", one), extensions(two)]
    for chosen in (headers[1:], [headers[0], *headers[2:]]):
        with contextlib.suppress(Refused):
            judge("GET", chosen, compress=True)
