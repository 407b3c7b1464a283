"""Floods: more than a server must take (RFC 9112 §3, RFC 9110 §5.4, RFC 6585 §5)."""

from tests.conformance.malformed.rows import Row, get, rows

LINE_TOO_LONG: list[Row] = rows(
    414,
    "RFC 9112 §3: a request line longer than any that is wanted",
    [
        get(target=b"/" + b"a" * 8192),
        get(target=b"/" + b"a" * 100_000),
        get(target=b"/?" + b"a=b&" * 20_000),
        get(target=b"/" + b"%00" * 3_000),
        get(target=b"http://a/" + b"a" * 9_000),
        get(target=b"http://" + b"a" * 9_000 + b"/"),
        b"GET /" + b"a" * 8_300,
        b"GET / HTTP/1.1" + b" " * 9_000,
        get(version=b"HTTP/1.1" + b"1" * 9_000),
    ],
)
METHOD_TOO_LONG: list[Row] = rows(
    501,
    "RFC 9112 §3: a method longer than any that is implemented",
    [b"GET" * 3_000, get(method=b"GET" * 3_000)],
)
HEADERS_TOO_LARGE: list[Row] = rows(
    431,
    "RFC 6585 §5: fields that are too many or too large",
    [
        get(*[b"X: y"] * 101),
        get(*[b"X%d: y" % number for number in range(101)]),
        get(*[b"X:"] * 10_000),
        get(*[b"Cookie: a=b"] * 200),
        get(*[b"Host%d: a" % number for number in range(300)]),
        get(*[b"X: " + b"y" * 1000] * 70),
        get(b"X: " + b"y" * 70_000),
        get(b"X: " + b"y" * 65_536),
        get(b"X" * 70_000 + b": y"),
        get(b"X: " + b" " * 70_000 + b"y"),
        get(b"X:" + b"\t" * 70_000),
        get(host=b"a" * 70_000),
        get(b"Content-Length: " + b"1" * 70_000),
        get(b"Transfer-Encoding: " + b"chunked, " * 10_000),
        get(b"Connection: " + b"close, " * 12_000),
        get(b"X: y")[:-2] + b"Z: " + b"y" * 70_000,
        get(b"X: y")[:-2] + b"Z" * 70_000,
        get(b"X: y")[:-2] + b"Z: y\r\n" * 20_000,
    ],
)
