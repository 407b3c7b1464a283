"""Requests that look odd and are none the less proper: what their app is to be told, exactly."""

from typing import NamedTuple

from tests.conformance.malformed.rows import chunked, get, post

Pairs = list[tuple[bytes, bytes]]
HOST: Pairs = [(b"host", b"a")]


class Told(NamedTuple):
    """What an app learns of one request."""

    method: bytes = b"GET"
    raw_path: bytes = b"/"
    query: bytes = b""
    headers: Pairs = HOST
    body: bytes = b""
    path: str = ""  # where it is not the raw one
    version: str = "1.1"


class Good(NamedTuple):
    """Bytes that are one proper request, or several."""

    source: str  # the section that allows it
    data: bytes
    told: tuple[Told, ...]


def path(raw: bytes, decoded: str = "", query: bytes = b"") -> Told:
    return Told(raw_path=raw, path=decoded, query=query)


def field(name: bytes, value: bytes) -> Told:
    return Told(headers=[*HOST, (name, value)])


def host(value: bytes) -> Told:
    return Told(headers=[(b"host", value)])


TARGETS = [
    Good(f"RFC 3986 §3.3: {target!r} is a path", get(target=target), (told,))
    for target, told in (
        (b"/", path(b"/")),
        (b"//", path(b"//")),
        (b"///a//b/", path(b"///a//b/")),
        (b"/..", path(b"/..")),
        (b"/a/../b/./c", path(b"/a/../b/./c")),
        (b"/?", path(b"/")),
        (b"/??", path(b"/", query=b"?")),
        (b"/a?b?c=d", path(b"/a", query=b"b?c=d")),
        (b"/?a=b%20c+d", path(b"/", query=b"a=b%20c+d")),
        (b"/%41%2f%3F%23", path(b"/%41%2f%3F%23", "/A/?#")),
        (b"/%00%0d%0a", path(b"/%00%0d%0a", "/\0\r\n")),
        (b"/%c3%a9", path(b"/%c3%a9", "/é")),
        (b"/%ff", path(b"/%ff", "/\ufffd")),
        (b"/%zz%", path(b"/%zz%")),
        (b"/:80@a", path(b"/:80@a")),
        (b"/http://b/", path(b"/http://b/")),
        (b"/a;b=c,d", path(b"/a;b=c,d")),
        (b'/<>"{}|\\^`', path(b'/<>"{}|\\^`')),
        (b"/*", path(b"/*")),
        (b"/" + b"a" * 8000, path(b"/" + b"a" * 8000)),
    )
]
ABSOLUTE = [
    Good(f"RFC 9112 §3.2.2: {target!r} must be accepted", get(target=target, host=b"x"), (told,))
    for target, told in (
        (b"http://b/c?d", Told(raw_path=b"/c", query=b"d", headers=[(b"host", b"b")])),
        (b"http://b", host(b"b")),
        (b"HTTP://B:8080/", host(b"B:8080")),
        (b"http://b?c", Told(query=b"c", headers=[(b"host", b"b")])),
        (b"http://[::1]:80/", host(b"[::1]:80")),
        (b"http://b//c", Told(raw_path=b"//c", headers=[(b"host", b"b")])),
    )
]
HOSTS = [
    Good(f"RFC 9112 §3.2, RFC 3986 §3.2.2: Host {value!r}", get(host=value), (host(value),))
    for value in (
        *(b"a:80", b"a:", b"a:0", b"a:65535", b"a:00080", b"127.0.0.1", b"127.0.0.1:80", b"A.B.C"),
        *(b"[::1]", b"[::1]:80", b"[::]", b"[2001:db8::1]:443", b"[::ffff:127.0.0.1]", b"[v1.a:b]"),
        *(
            b"[fe80::1%25eth0]",
            b"xn--bcher-kva.example",
            b"a_b",
            b"a.",
            b"%41",
            b"a-b~c",
            b"a" * 200,
        ),
    )
]
FIELDS = [
    Good("RFC 9112 §5: " + why, get(line), (field(name, value),))
    for why, line, name, value in (
        ("no blank after the colon", b"X:y", b"x", b"y"),
        ("blanks around the value", b"X: \t y z \t ", b"x", b"y z"),
        ("an empty value", b"X:", b"x", b""),
        ("a value of blanks", b"X:   ", b"x", b""),
        ("a tab within", b"X: y\tz", b"x", b"y\tz"),
        ("obs-text", b"X: \xc3\xa9\xff", b"x", b"\xc3\xa9\xff"),
        ("colons", b"X: :y: z:", b"x", b":y: z:"),
        ("a token of signs", b"!#$%&'*+-.^_`|~: y", b"!#$%&'*+-.^_`|~", b"y"),
        ("digits", b"0: 1", b"0", b"1"),
        ("upper case", b"X-UPPER: Y", b"x-upper", b"Y"),
        ("a comment", b"User-Agent: a (b; c)", b"user-agent", b"a (b; c)"),
        ("quotes", b'X: "a\\"b"', b"x", b'"a\\"b"'),
        ("a long one", b"X: " + b"y" * 60_000, b"x", b"y" * 60_000),
        ("te", b"TE: trailers", b"te", b"trailers"),
        ("an option", b"Connection: keep-alive, TE", b"connection", b"keep-alive, TE"),
        ("Upgrade to what is not known", b"Upgrade: h2c", b"upgrade", b"h2c"),
    )
] + [
    Good(
        "RFC 9110 §5.3: equal names stay apart and in order",
        get(b"X: 1", b"Y: 2", b"x: 3"),
        (Told(headers=[*HOST, (b"x", b"1"), (b"y", b"2"), (b"x", b"3")]),),
    ),
    Good(
        "RFC 6585 §5: as many fields as are allowed",
        get(*[b"X: y"] * 99),
        (Told(headers=[*HOST, *[(b"x", b"y")] * 99]),),
    ),
]
CHUNKED: Pairs = [*HOST, (b"transfer-encoding", b"chunked")]
BODIES = [
    Good("RFC 9112 §7.1: " + why, chunked(data), (Told(b"POST", headers=CHUNKED, body=body),))
    for why, data, body in (
        ("nothing", b"0\r\n\r\n", b""),
        ("one", b"3\r\nabc\r\n0\r\n\r\n", b"abc"),
        ("several", b"1\r\na\r\n2\r\nbc\r\n0\r\n\r\n", b"abc"),
        ("leading noughts", b"00000000003\r\nabc\r\n000\r\n\r\n", b"abc"),
        ("either case", b"a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n", b"0123456789" * 2),
        ("line ends as data", b"6\r\n\r\n0\r\n\r\r\n0\r\n\r\n", b"\r\n0\r\n\r"),
        ("an extension", b"3;a\r\nabc\r\n0\r\n\r\n", b"abc"),
        ("extensions", b"3;a=b;c;d=e\r\nabc\r\n0;z\r\n\r\n", b"abc"),
        ("a quoted one", b'3;a="b;\\" \t\xe9="\r\nabc\r\n0\r\n\r\n', b"abc"),
        ("a signed one", b"3;chunk-signature=" + b"0f" * 32 + b"\r\nabc\r\n0\r\n\r\n", b"abc"),
        ("a trailer, which is dropped", b"3\r\nabc\r\n0\r\nX: y\r\n\r\n", b"abc"),
        ("forbidden trailers, too", b"0\r\nHost: b\r\nContent-Length: 5\r\nCookie: c\r\n\r\n", b""),
        ("many tiny chunks", b"1\r\nx\r\n" * 2000 + b"0\r\n\r\n", b"x" * 2000),
        ("a big chunk", b"8000\r\n" + b"x" * 0x8000 + b"\r\n0\r\n\r\n", b"x" * 0x8000),
    )
] + [
    Good(
        "RFC 9110 §8.6: " + why,
        data,
        (Told(method, headers=[*HOST, (b"content-length", length)], body=body),),
    )
    for why, method, length, body, data in (
        ("a length", b"POST", b"3", b"abc", post(b"Content-Length: 3", body=b"abc")),
        ("none at all", b"POST", b"0", b"", post(b"Content-Length: 0")),
        ("leading noughts", b"POST", b"0003", b"abc", post(b"Content-Length: 0003", body=b"abc")),
        ("with GET", b"GET", b"3", b"abc", get(b"Content-Length: 3") + b"abc"),
        ("CRLF in it", b"POST", b"4", b"\r\n\r\n", post(b"Content-Length: 4", body=b"\r\n\r\n")),
    )
]
CODED = [
    Good(
        f"RFC 9112 §7: codings are without case: {coding!r}",
        post(b"Transfer-Encoding: " + coding, body=b"1\r\na\r\n0\r\n\r\n"),
        (Told(b"POST", headers=[*HOST, (b"transfer-encoding", coding.strip())], body=b"a"),),
    )
    for coding in (b"chunked", b"Chunked", b"CHUNKED", b" chunked \t")
]
SMUGGLED = get(target=b"/smuggled")
LENGTH = b"Content-Length: %d" % len(SMUGGLED)
SEVERAL = [
    Good(
        "RFC 9112 §9.3.2: pipelined",
        get(target=b"/1") + chunked(b"1\r\na\r\n0\r\n\r\n") + get(target=b"/2"),
        (path(b"/1"), Told(b"POST", headers=CHUNKED, body=b"a"), path(b"/2")),
    ),
    Good(
        "RFC 9112 §2.2: blank lines before a request",
        b"\r\n\r\n" + get(target=b"/1") + b"\r\n" + get(target=b"/2"),
        (path(b"/1"), path(b"/2")),
    ),
    Good(
        "RFC 9112 §6.3: a body that looks like a request is a body",
        post(LENGTH, body=SMUGGLED) + get(target=b"/2"),
        (
            Told(
                b"POST",
                headers=[*HOST, (b"content-length", b"%d" % len(SMUGGLED))],
                body=SMUGGLED,
            ),
            path(b"/2"),
        ),
    ),
    Good(
        "RFC 9110 §7.8: so is one with Upgrade, whatever may have become of the connection",
        post(b"Connection: Upgrade", b"Upgrade: h2c", LENGTH, body=SMUGGLED) + get(target=b"/2"),
        (
            Told(
                b"POST",
                headers=[
                    *HOST,
                    (b"connection", b"Upgrade"),
                    (b"upgrade", b"h2c"),
                    (b"content-length", b"%d" % len(SMUGGLED)),
                ],
                body=SMUGGLED,
            ),
            path(b"/2"),
        ),
    ),
    Good(
        "RFC 9110 §9.3.1: and so is one of GET",
        get(LENGTH) + SMUGGLED + get(target=b"/2"),
        (
            Told(headers=[*HOST, (b"content-length", b"%d" % len(SMUGGLED))], body=SMUGGLED),
            path(b"/2"),
        ),
    ),
    Good(
        "RFC 9112 §9.3: HTTP/1.0 is kept if it asks for that",
        get(b"Connection: keep-alive", version=b"HTTP/1.0", host=None)
        + get(target=b"/2", version=b"HTTP/1.0"),
        (
            Told(headers=[(b"connection", b"keep-alive")], version="1.0"),
            Told(raw_path=b"/2", version="1.0"),
        ),
    ),
    Good(
        "RFC 9110 §9.3.7: OPTIONS *", get(target=b"*", method=b"OPTIONS"), (Told(b"OPTIONS", b"*"),)
    ),
]
GOOD: list[Good] = [*TARGETS, *ABSOLUTE, *HOSTS, *FIELDS, *BODIES, *CODED, *SEVERAL]
