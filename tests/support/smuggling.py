"""Bytes that two readers may take apart differently: the ways to hide a request in another.

Each holds one request of its own, to /outer or /unread (whose body the app leaves unread), and
hides one to /smuggled where a body or nonsense is. Where a proxy takes that for a request, too, it
is one, and has the proxy's mark. After "HTTP Desync Attacks" (2019),
"Funky chunks" (2025), "HTTP/1.1 must die" (2025) and the bugs of other servers.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

from tests.support.proxies import CLIENT, Record, ask, send_raw

HIDDEN = b"GET /smuggled HTTP/1.1\r\nHost: a\r\nX-Smuggled: yes\r\n\r\n"


class Attack(NamedTuple):
    name: str
    data: bytes


def request(
    *lines: bytes, body: bytes = b"", method: bytes = b"POST", path: bytes = b"/outer"
) -> bytes:
    head = [method + b" " + path + b" HTTP/1.1", b"Host: a", *lines, b"", b""]
    return b"\r\n".join(head) + body


# Lines that one reader may take for Transfer-Encoding: chunked, and another not.
CODINGS = {
    "plain": b"Transfer-Encoding: chunked",
    "case": b"tRANSFER-eNCODING: ChUnKeD",
    "x": b"Transfer-Encoding: xchunked",
    "chunkedx": b"Transfer-Encoding: chunkedx",
    "blank before colon": b"Transfer-Encoding : chunked",
    "tab before colon": b"Transfer-Encoding\t: chunked",
    "tab": b"Transfer-Encoding:\tchunked",
    "vertical tab": b"Transfer-Encoding:\x0bchunked",
    "form feed": b"Transfer-Encoding: chunked\x0c",
    "next line": b"Transfer-Encoding: \x85chunked",
    "no-break space": b"Transfer-Encoding: chunked\xa0",
    "nul": b"Transfer-Encoding: chunked\0",
    "nul in name": b"Transfer-Encoding\0: chunked",
    "leading blank": b" Transfer-Encoding: chunked",
    "folded name": b"X: y\r\n Transfer-Encoding: chunked",
    "folded value": b"Transfer-Encoding:\r\n chunked",
    "folded after": b"Transfer-Encoding: chunked\r\n ,identity",
    "bare lf before": b"X: y\nTransfer-Encoding: chunked",
    "bare cr before": b"X: y\rTransfer-Encoding: chunked",
    "bare cr after": b"Transfer-Encoding: chunked\rX: y",
    "bare lf value": b"Transfer-Encoding:\n chunked",
    "quoted": b'Transfer-Encoding: "chunked"',
    "underscore": b"Transfer_Encoding: chunked",
    "identity": b"Transfer-Encoding: identity",
    "chunked, identity": b"Transfer-Encoding: chunked, identity",
    "identity, chunked": b"Transfer-Encoding: identity, chunked",
    "gzip, chunked": b"Transfer-Encoding: gzip, chunked",
    "chunked twice": b"Transfer-Encoding: chunked, chunked",
    "empty member": b"Transfer-Encoding: ,chunked",
    "parameter": b"Transfer-Encoding: chunked;a=b",
    "two lines": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
    "two lines, first odd": b"Transfer-Encoding: cow\r\nTransfer-Encoding: chunked",
    "empty first": b"Transfer-Encoding:\r\nTransfer-Encoding: chunked",
    "no colon": b"Transfer-Encoding chunked",
}

# Lines that may or may not give the body the length of the hidden request.
LENGTHS = {
    "twice, first 0": b"Content-Length: 0\r\nContent-Length: %d",
    "twice, last 0": b"Content-Length: %d\r\nContent-Length: 0",
    "list": b"Content-Length: %d, 0",
    "list, same": b"Content-Length: %d, %d",
    "plus": b"Content-Length: +%d",
    "minus": b"Content-Length: -%d",
    "zero first": b"Content-Length: 0%d",
    "hexadecimal": b"Content-Length: 0x%x",
    "underscore": b"Content-Length: 1_%d",
    "point": b"Content-Length: %d.0",
    "vertical tab": b"Content-Length: \x0b%d",
    "blank before colon": b"Content-Length : %d",
    "leading blank": b" Content-Length: %d",
    "folded": b"Content-Length:\r\n %d",
    "empty": b"Content-Length:",
    "name with underscore": b"Content_Length: %d",
    "bare lf": b"X: y\nContent-Length: %d",
    "bare cr": b"X: y\rContent-Length: %d",
    "overflow": b"Content-Length: 18446744073709551616%d",
    "other digits": b"Content-Length: \xd9\xa1%d",
    "quoted": b'Content-Length: "%d"',
}

# Chunked bodies in which one reader may see an end that another does not.
CHUNKS = {
    "bare lf in extension": b"5;a\nhello\r\n0\r\n\r\n" + HIDDEN,
    "lf before chunk": b"2;\n\n0\r\n\r\n" + HIDDEN + b"0\r\n\r\n",
    "extension hides a line": b"3;\r\nab\nc\r\n0\r\n\r\n",
    "cr in extension": b"5;a\rb\r\nhello\r\n0\r\n\r\n" + HIDDEN,
    "bare lf ends size": b"5\nhello\r\n0\n\n" + HIDDEN,
    "bare cr ends size": b"5\rhello\r\n0\r\n\r\n" + HIDDEN,
    "no line end after data": b"5\r\nhello0\r\n\r\n" + HIDDEN,
    "two bytes after data": b"5\r\nhelloXX0\r\n\r\n" + HIDDEN,
    "hexadecimal prefix": b"0x5\r\nhello\r\n0\r\n\r\n" + HIDDEN,
    "plus": b"+5\r\nhello\r\n0\r\n\r\n" + HIDDEN,
    "minus": b"-5\r\nhello\r\n0\r\n\r\n" + HIDDEN,
    "underscore": b"0_5\r\nhello\r\n0\r\n\r\n" + HIDDEN,
    "blank before size": b" 5\r\nhello\r\n0\r\n\r\n" + HIDDEN,
    "overflow": b"10000000000000005\r\nhello\r\n0\r\n\r\n" + HIDDEN,
    "empty size": b"\r\n0\r\n\r\n" + HIDDEN,
    "nul in size": b"5\0\r\nhello\r\n0\r\n\r\n" + HIDDEN,
    "trailer without end": b"0\r\nX: y\r\n" + HIDDEN,
    "length in trailer": b"0\r\nContent-Length: 60\r\n\r\n",
    "bare lf in trailer": b"0\r\nX: y\n\n" + HIDDEN,
    "folded trailer": b"0\r\nX: y\r\n z\r\n\r\n",
    "never ended": b"5\r\nhello\r\n",
}


def attacks() -> Iterator[Attack]:
    size = len(HIDDEN)
    for name, coding in CODINGS.items():
        body = b"0\r\n\r\n" + HIDDEN
        yield Attack(f"CL.TE {name}", request(b"Content-Length: %d" % len(body), coding, body=body))
        body = b"%x\r\n%b\r\n0\r\n\r\n" % (size, HIDDEN)
        yield Attack(f"TE.CL {name}", request(b"Content-Length: 4", coding, body=body))
    for name, length in LENGTHS.items():
        line = length.replace(b"%d", b"%d" % size).replace(b"%x", b"%x" % size)
        yield Attack(f"CL {name}", request(line, body=HIDDEN))
    for name, chunks in CHUNKS.items():
        yield Attack(f"chunks {name}", request(b"Transfer-Encoding: chunked", body=chunks))
    length = b"Content-Length: %d" % size
    for method in (b"GET", b"HEAD", b"OPTIONS", b"DELETE", b"TRACE"):
        data = request(length, body=HIDDEN, method=method)
        yield Attack(f"CL.0 {method.decode()}", data)
    for line in (
        b"X: y",
        b"Expect: 100-continue",
        b"Expect: y 100-continue",
        b"Expect:\r\n 100-continue",
    ):
        data = request(length, line, body=HIDDEN, path=b"/unread")
        yield Attack(f"unread body, {line!r}", data)
    for line in (
        b"Upgrade: websocket",
        b"Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA",
    ):
        lines = (b"Connection: Upgrade", line, b"Sec-WebSocket-Version: 9999")
        yield Attack(f"body of an {line[:12]!r}", request(length, *lines, body=HIDDEN))
    yield Attack(
        "connection drops length", request(b"Connection: Content-Length", length, body=HIDDEN)
    )
    yield Attack("two hosts", request(b"Host: b", length, body=HIDDEN))
    yield Attack("nothing but nul", request(b"X: \0", length, body=HIDDEN))
    yield Attack(
        "two versions", b"POST /outer HTTP/1.1 HTTP/1.1\r\nHost: a\r\n%b\r\n\r\n" % length + HIDDEN
    )
    yield Attack("lf heads", request(length, body=HIDDEN).replace(b"\r\n", b"\n", 3))
    yield Attack(
        "HTTP/1.0", request(CODINGS["plain"], body=b"0\r\n\r\n").replace(b"1.1", b"1.0", 1)
    )
    yield Attack("path with a line", b"GET /outer\r\n\tX HTTP/1.1\r\nHost: a\r\n\r\n")
    yield Attack(
        "request in a header", request(b"X: " + HIDDEN.replace(b"\r\n", b"\r"), method=b"GET")
    )


ATTACKS = list(attacks())


def check_nothing_came_through(attack: Attack, port: int, record: Record) -> None:
    """Send it through the proxy, then proper requests over whatever it left behind."""
    record.news()
    send_raw(port, attack.data)
    victims = ["/victim-1", "/victim-2", "/victim-3"]
    for path in victims:
        seen: dict[str, Any] = ask(port, path)
        assert (seen["method"], seen["path"], seen["body"]) == ("GET", path, "")
        assert "x-smuggled" not in seen["headers"]
    news = record.news()
    assert [seen["path"] for seen in news if seen["path"] in victims] == victims
    for seen in news:
        # The proxy has put its mark on each request that it took for one.
        assert seen["client"] == [CLIENT, 0], seen
