"""Addresses: one canonical text for each, and a reason for each refusal."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clusterd.config.address import Fd, Tcp, Unix, parse_bind
from clusterd.core.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "address", "canonical"),
    [
        ("127.0.0.1:8000", Tcp("127.0.0.1", 8000), "127.0.0.1:8000"),
        ("8000", Tcp("127.0.0.1", 8000), "127.0.0.1:8000"),
        (":80", Tcp("0.0.0.0", 80), "0.0.0.0:80"),
        ("localhost:0", Tcp("localhost", 0), "localhost:0"),
        ("[::1]:8000", Tcp("::1", 8000), "[::1]:8000"),
        ("[0:0::1]:8000", Tcp("::1", 8000), "[::1]:8000"),
        (" a.example:1 ", Tcp("a.example", 1), "a.example:1"),
        ("unix:/run/shop.sock", Unix("/run/shop.sock"), "unix:/run/shop.sock"),
        ("unix:x.sock,mode=600", Unix("x.sock", 0o600), "unix:x.sock,mode=600"),
        ("unix:x.sock,mode=0o666", Unix("x.sock", 0o666), "unix:x.sock,mode=666"),
        ("unix:x.sock,mode=0660", Unix("x.sock", 0o660), "unix:x.sock"),
        (
            "unix:x,group=www-data,mode=600,owner=1000",
            Unix("x", 0o600, "1000", "www-data"),
            "unix:x,mode=600,owner=1000,group=www-data",
        ),
        ("unix:x,owner=shop_1.a$", Unix("x", owner="shop_1.a$"), "unix:x,owner=shop_1.a$"),
        ("fd:3", Fd(3), "fd:3"),
        ("fd:3,tls=off", Fd(3, tls=False), "fd:3,tls=off"),
        ("fd:web", Fd(name="web"), "fd:web"),
        ("fd:shop.socket,tls=off", Fd(name="shop.socket", tls=False), "fd:shop.socket,tls=off"),
        ("8000,tls=off", Tcp("127.0.0.1", 8000, tls=False), "127.0.0.1:8000,tls=off"),
        ("[::1]:8000,tls=off", Tcp("::1", 8000, tls=False), "[::1]:8000,tls=off"),
        (":80,tls=on", Tcp("0.0.0.0", 80), "0.0.0.0:80"),
    ],
)
def test_an_address_is_read_and_written_in_one_form(
    text: str, address: object, canonical: str
) -> None:
    assert parse_bind(text) == address
    assert str(address) == canonical
    assert parse_bind(canonical) == address


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "port is missing"),
        ("localhost", "port is missing"),
        ("localhost:", "a port is a number"),
        ("localhost:http", "a port is a number"),
        ("localhost:65536", "a port is a number from 0 to 65535"),
        ("localhost:-1", "a port is a number"),
        ("localhost:٣", "a port is a number"),
        ("::1:8000", r"write IPv6 as \[::1\]:8000"),
        ("[::x]:8000", "no IPv6 address"),
        ("http://localhost:80", "is a URL"),
        ("a b:80", "is no host"),
        ("unix:", "the path of a file"),
        ("unix:@name", "the path of a file"),
        ("unix:/x,mode=9", ",mode= and e.g. 660"),
        ("unix:/x,owner=", ",owner= and a user"),
        ("unix:/x,owner", ",owner= and a user"),
        ("unix:/x,group=a b", ",group= and a group"),
        ("unix:/x,mode=600,mode=660", ",mode= and e.g. 660"),
        ("unix:/x,", ",mode= and e.g. 660"),
        ("unix:/x,user=me", ",owner= and a user"),
        ("unix:/" + "x" * 107, "has 108 bytes"),
        ("fd:", "a descriptor's number"),
        ("fd:x y", "a descriptor's number or name"),
        ("fd:3,tls=maybe", "the only option of a port is ,tls=off"),
        ("localhost:80,mode=660", "the only option of a port is ,tls=off"),
    ],
)
def test_a_wrong_address_says_why(text: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        parse_bind(text)


@given(st.text(max_size=200))
def test_any_text_is_an_address_or_a_config_error(text: str) -> None:
    try:
        address = parse_bind(text)
    except ConfigError:
        return
    assert parse_bind(str(address)) == address
