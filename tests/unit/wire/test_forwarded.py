"""What proxies tell of the client: read from the right, never more than a proxy of ours said."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clusterd.wire.forwarded import (
    HOPS,
    LONGEST,
    NOTHING,
    Told,
    forwarded,
    split_host,
    unheard,
    with_port,
    x_forwarded,
)

OURS = {"10.0.0.1", "10.0.0.2", "2001:db8::a"}
FORGED = "198.51.100.66"  # what clients write, and nobody may believe


def is_ours(host: str) -> bool:
    return host in OURS


def hops(value: bytes) -> Told:
    return x_forwarded([value, b"", b"", b""], is_ours)


def element(value: bytes) -> Told:
    return forwarded([value], is_ours)


@pytest.mark.parametrize(
    ("value", "client"),
    [
        (b"192.0.2.7", ("192.0.2.7", 0)),
        (b"192.0.2.7:4711", ("192.0.2.7", 4711)),
        (b" \t192.0.2.7 ", ("192.0.2.7", 0)),
        (b"2001:db8::7", ("2001:db8::7", 0)),
        (b"2001:DB8:0:0::7", ("2001:db8::7", 0)),
        (b"[2001:db8::7]", ("2001:db8::7", 0)),
        (b"[2001:db8::7]:4711", ("2001:db8::7", 4711)),
        (b"::ffff:192.0.2.7", ("192.0.2.7", 0)),
        (b"198.51.100.66, 192.0.2.7", ("192.0.2.7", 0)),
        (b"198.51.100.66, 10.0.0.1, 192.0.2.7", ("192.0.2.7", 0)),
        (b"198.51.100.66, 192.0.2.7, 10.0.0.1", ("192.0.2.7", 0)),
        (b"198.51.100.66, 192.0.2.7, 10.0.0.2, 10.0.0.1", ("192.0.2.7", 0)),
        (b"192.0.2.7, 2001:db8::a", ("192.0.2.7", 0)),
        (b"192.0.2.7,,10.0.0.1, ,", ("192.0.2.7", 0)),
        (b"10.0.0.2, 10.0.0.1", ("10.0.0.2", 0)),  # all are ours: whoever is farthest
        (b"192.0.2.7:_hidden", ("192.0.2.7", 0)),
        (b"unknown, 10.0.0.1", None),  # a proxy of ours keeps it secret
        (b"198.51.100.66, unknown", None),
        (b"198.51.100.66, _hidden:_port", None),
    ],
)
def test_the_client_is_the_right_most_that_is_no_proxy_of_ours(
    value: bytes, client: tuple[str, int] | None
) -> None:
    told = hops(value)
    assert told.knows
    assert told.client == client


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b",",
        b"garbage",
        b"198.51.100.66, garbage",
        b"198.51.100.66, 192.0.2.300",
        b"198.51.100.66, 192.0.2.007",
        b"198.51.100.66, 192.0.2.7:99999",
        b"198.51.100.66, 192.0.2.7:",
        b"198.51.100.66, 192.0.2.7:80:80",
        b"198.51.100.66, [192.0.2.7]x",
        b"198.51.100.66, fe80::1%\x1b[31m",
        b"198.51.100.66, fe80::1%eth0",
        b"198.51.100.66, 192.0.2.7 198.51.100.66",
        b"198.51.100.66, \xb2\xb3.0.2.7",
        b"198.51.100.66, 3221225991",
        b"198.51.100.66, <script>",
    ],
)
def test_what_makes_no_sense_is_as_if_it_were_not_there(value: bytes) -> None:
    assert hops(value) == NOTHING


def test_behind_a_proxy_of_ours_that_talks_nonsense_stands_that_proxy() -> None:
    assert hops(b"198.51.100.66, garbage, 10.0.0.1").client == ("10.0.0.1", 0)


def test_a_forged_chain_is_not_followed_for_ever() -> None:
    told = hops(b"192.0.2.7" + b", 10.0.0.1" * (HOPS - 1))
    assert told.client == ("192.0.2.7", 0)
    told = element(b"for=192.0.2.7" + b", for=10.0.0.1" * (HOPS - 1))
    assert told.client == ("192.0.2.7", 0)


@pytest.mark.parametrize("more", [0, 70, 7000])
def test_the_client_of_a_list_that_is_too_long_is_unknown(more: int) -> None:
    """An application may trust the address of a proxy; that of a client nobody has seen."""
    told = hops(b"192.0.2.7" + b", 10.0.0.1" * (HOPS + more))
    assert (told.knows, told.client) == (True, None)
    told = element(b"for=192.0.2.7" + b", for=10.0.0.1" * (HOPS + more))
    assert (told.knows, told.client) == (True, None)
    # What a client forged further left does not matter.
    assert hops(b"10.0.0.1, " * (HOPS + more) + b"192.0.2.7").client == ("192.0.2.7", 0)
    assert element(b"for=10.0.0.1, " * (HOPS + more) + b"for=192.0.2.7").client == ("192.0.2.7", 0)


def test_a_long_element_is_not_read_again_for_each_comma() -> None:
    """A client may open a quote in front of what its proxy adds, behind as many commas."""
    matched = 0

    class Counting:
        def fullmatch(self, text: bytes) -> None:
            nonlocal matched
            matched += len(text)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("clusterd.wire.forwarded.ELEMENT", Counting())
        assert not element(b"," * HOPS + b';a="' * 15000).knows
    assert matched <= HOPS * LONGEST
    assert element(b"for=192.0.2.7;" + b"a=b;" * 250).knows
    assert not element(b"for=192.0.2.7;" + b"a=b;" * 300).knows


@pytest.mark.parametrize(
    ("proto", "scheme"),
    [
        (b"https", "https"),
        (b"HTTP", "http"),
        (b"wss", "https"),
        (b"ws", "http"),
        (b"https, http", "http"),  # the nearest proxy's word
        (b"gopher", None),
        (b"https\xa0", None),
        (b"", None),
    ],
)
def test_schemes(proto: bytes, scheme: str | None) -> None:
    assert x_forwarded([b"", proto, b"", b""], is_ours).scheme == scheme


@pytest.mark.parametrize(
    ("host", "port", "told_host", "told_port"),
    [
        (b"a.example", b"8443", b"a.example", 8443),
        (b"evil.example, a.example:81", b"1, 443", b"a.example:81", 443),
        (b"[2001:db8::7]:81", b"", b"[2001:db8::7]:81", None),
        (b"a.example/path", b"0", None, None),
        (b"user@a.example", b"65536", None, None),
        (b"a b", b"80x", None, None),
        (b"", b"+80", None, None),
        (b"a.example:99999", b"\xb2", None, None),
    ],
)
def test_hosts_and_ports(
    host: bytes, port: bytes, told_host: bytes | None, told_port: int | None
) -> None:
    told = x_forwarded([b"", b"", host, port], is_ours)
    assert (told.host, told.port) == (told_host, told_port)


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (b"for=192.0.2.7", Told(True, ("192.0.2.7", 0))),
        (b'For="192.0.2.7:4711"', Told(True, ("192.0.2.7", 4711))),
        (
            b'for="[2001:db8:cafe::17]:4711";proto=https;host="a.example:81"',
            Told(True, ("2001:db8:cafe::17", 4711), "https", b"a.example:81"),
        ),
        (b"proto=https; for=192.0.2.7", Told(True, ("192.0.2.7", 0), "https")),
        (b";for=192.0.2.7;;", Told(True, ("192.0.2.7", 0))),
        (b"for=_hidden, for=10.0.0.1", Told(True)),
        (b"for=198.51.100.66, for=unknown", Told(True)),
        (b'for="_gazonk"', Told(True)),
        (
            b"for=192.0.2.7;proto=https;host=a.example, for=10.0.0.1;proto=http;host=inner",
            Told(True, ("192.0.2.7", 0), "https", b"a.example"),
        ),
        (b"for=198.51.100.66;proto=https, for=192.0.2.7", Told(True, ("192.0.2.7", 0))),
        (b'for=192.0.2.7;by="a,b\\"c"', Told(True, ("192.0.2.7", 0))),
        (b"proto=https;host=a.example", Told(scheme="https", host=b"a.example")),
        (b"for=198.51.100.66, proto=https", Told(scheme="https")),
        (b"for=192.0.2.7, ,", Told(True, ("192.0.2.7", 0))),
        (b'for="\\1\\9\\2.0.2.7"', Told(True, ("192.0.2.7", 0))),
    ],
)
def test_elements_of_forwarded(value: bytes, told: Told) -> None:
    """RFC 7239 §4 and §6."""
    assert element(value) == told


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"for",
        b"for =192.0.2.7",
        b"for= 192.0.2.7",
        b"for=192.0.2.7;proto",
        b"for=192.0.2.7 proto=https",
        b'for="192.0.2.7',
        b"for=[2001:db8::7]",  # brackets are no token
        b"for=198.51.100.66, for=<x>",
        b"192.0.2.7",
    ],
)
def test_malformed_elements_say_nothing(value: bytes) -> None:
    told = element(value)
    assert told == NOTHING or told.client != (FORGED, 0)
    assert not told.knows


@pytest.mark.parametrize(
    "forged",
    [
        b'for="',
        b'for="x',
        b'for="198.51.100.66", for="',
        b'for=198.51.100.66;by="',
        b'for="\\',
        b"for=198.51.100.66",
        b'", for=198.51.100.66;by="',
        b"\\",
        b";;;",
        b"=",
    ],
)
@pytest.mark.parametrize(
    "added", [b"for=192.0.2.7", b'for="192.0.2.7:80";by="10.0.0.1"', b'by=_x;for="192.0.2.7"']
)
def test_a_quote_that_a_client_opens_swallows_nothing(forged: bytes, added: bytes) -> None:
    told = element(forged + b", " + added)
    assert told.client is not None
    assert told.client[0] == "192.0.2.7"


@given(st.binary(max_size=200))
def test_whatever_a_client_writes_the_proxys_word_stands(forged: bytes) -> None:
    text = forged.replace(b"\r", b"").replace(b"\n", b"").replace(b"\0", b"")
    assert hops(text + b", 192.0.2.7").client == ("192.0.2.7", 0)
    assert element(text + b", for=192.0.2.7").client == ("192.0.2.7", 0)


@given(st.binary(max_size=200))
def test_nothing_is_too_strange_to_be_read(value: bytes) -> None:
    for told in (x_forwarded([value] * 4, is_ours), forwarded([value], is_ours)):
        assert told.client is None or told.client[0].isprintable()


def test_a_long_value_costs_little() -> None:
    """Each of these took seconds with a pattern or a loop that backtracks."""
    for value in (b";" + b" " * 65000 + b"!", b'for="' + b"\\," * 30000, b"for=a;" * 10000 + b"("):
        assert not element(value).knows
        assert not hops(value).knows


def test_ports_of_hosts() -> None:
    assert with_port(b"a.example", 443, "https") == b"a.example"
    assert with_port(b"a.example:81", 443, "https") == b"a.example"
    assert with_port(b"a.example:81", 443, "http") == b"a.example:443"
    assert with_port(b"[2001:db8::7]", 81, "http") == b"[2001:db8::7]:81"
    assert split_host(b"a.example", "https") == ("a.example", 443)
    assert split_host(b"a.example:", "ws") == ("a.example", 80)
    assert split_host(b"[2001:db8::7]:81", "http") == ("2001:db8::7", 81)
    assert split_host(b"[2001:db8::7]", "wss") == ("2001:db8::7", 443)


def test_the_family_that_is_off_says_nothing() -> None:
    assert unheard([b"192.0.2.7"], is_ours) == NOTHING
