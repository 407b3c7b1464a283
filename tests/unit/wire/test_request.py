"""The reader: what a request is, what is none, and that splitting the bytes changes nothing."""

from typing import Any

import pytest

from clusterd.core.errors import PeerError
from clusterd.wire import heads
from clusterd.wire.limits import Limits
from clusterd.wire.request import Reader

HOST = b"Host: a\r\n"


class Recorder(Reader):
    """Remembers what it was told."""

    def __init__(self, limits: Limits | None = None) -> None:
        super().__init__(limits or Limits())
        self.events: list[Any] = []

    def on_request(self, asked: Any, headers: Any, length: int) -> None:
        self.events.append(((*asked, self.old), headers, length, self.keeps, self.expects))

    def on_body_part(self, data: bytes) -> None:
        if self.events and isinstance(self.events[-1], bytes):
            self.events[-1] += data
        else:
            self.events.append(data)

    def on_request_end(self) -> None:
        self.events.append("end")

    def take(self, data: bytes) -> "Recorder":
        while data:
            data = self.feed(data) if self.is_parsing else self.read(data)
        return self


def events(*pieces: bytes) -> list[Any]:
    reader = Recorder()
    for piece in pieces:
        reader.take(piece)
    return reader.events


STREAMS = [
    b"GET /a?b=1 HTTP/1.1\r\nHost: a\r\nX-Y: z \t\r\n\r\n",
    b"\r\n\r\nGET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    b"POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\nhello\r\n\r\nabGET / HTTP/1.1\r\n"
    + HOST
    + b"\r\n",
    b"POST /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    b'5;name="v"\r\nhello\r\n6\r\n\r\n\r\nab\r\n0\r\nTrailer: dropped\r\n\r\n'
    b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 3,
    b"POST /u HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 18\r\n"
    b"\r\nGET /x HTTP/1.1\r\n\rGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"POST /u HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
]


@pytest.mark.parametrize("stream", STREAMS)
def test_any_split_gives_the_same_events(stream: bytes) -> None:
    """Cut at every two places, and into single bytes: the same requests come out."""
    whole = events(stream)
    assert whole
    assert events(*[stream[i : i + 1] for i in range(len(stream))]) == whole
    for size in range(1, len(stream)):
        pieces = [stream[i : i + size] for i in range(0, len(stream), size)]
        assert events(*pieces) == whole
    for cut in range(1, len(stream)):
        assert events(stream[:cut], stream[cut:]) == whole


def test_what_is_told_of_a_request() -> None:
    """Percent-decoded path, names in lower case, values without blanks around them."""
    (told,) = events(b"GET /a%20%C3%A9/%2f?q=%20 HTTP/1.1\r\nHost: a:80\r\nX-Y:\t v \t\r\n\r\n")
    line, headers, length, keeps, expects = told
    assert line == ("GET", "/a é//", b"/a%20%C3%A9/%2f", b"q=%20", False)
    assert headers == [(b"host", b"a:80"), (b"x-y", b"v")]
    assert (length, keeps, expects) == (0, True, False)


def test_the_authority_of_an_absolute_target_is_the_host() -> None:
    """RFC 9112 §3.2.2: the field is ignored then."""
    (told,) = events(b"GET http://b:81/x?y HTTP/1.1\r\nHost: a\r\nX: 1\r\n\r\n")
    assert told[0][:4] == ("GET", "/x", b"/x", b"y")
    assert told[1] == [(b"host", b"b:81"), (b"x", b"1")]


def test_an_upgraded_request_keeps_its_body() -> None:
    """The body of a request with Upgrade is never taken for the next request."""
    told = events(STREAMS[5])
    assert told[1] == b"GET /x HTTP/1.1\r\n\r"
    assert told[2] == "end"


MALFORMED = [
    # status, what is wrong, bytes
    (400, "RFC 9112 §3.2 no Host", b"GET / HTTP/1.1\r\n\r\n"),
    (400, "RFC 9112 §3.2 two Hosts", b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"),
    (400, "§3.2 two Hosts, HTTP/1.0", b"GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n"),
    *(
        (400, f"§3.2 Host {host!r}", b"GET / HTTP/1.1\r\nHost: " + host + b"\r\n\r\n")
        for host in (
            b"",
            b"a/b",
            b"a?b",
            b"a#b",
            b"u@a",
            b"a,b",
            b"a b",
            b"a\\b",
            b"a:port",
            b"a:-1",
            b"a:65536",
            b"a:80:80",
            b"[::1",
            b"[::g]",
            b"::1",
            b"a\xff",
            b"a%zz",
            b"<a>",
        )
    ),
    (400, "§3.2 Host in the target", b"GET http://u@a/ HTTP/1.1\r\n" + HOST + b"\r\n"),
    (
        400,
        "§6.1 both framings",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        400,
        "§6.1 both, other order",
        b"POST / HTTP/1.1\r\nHost: a\r\n"
        b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
    ),
    (400, "§6.1 coding from 1.0", b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"),
    *(
        (
            status,
            f"§6.1 coding {coding!r}",
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: " + coding + b"\r\n\r\n0\r\n\r\n",
        )
        for status, coding in (
            (501, b"gzip, chunked"),
            (400, b"gzip"),
            (400, b"xchunked"),
            (400, b"chunked, gzip"),
            (400, b"\x0bchunked"),
            (400, b"chunked\x0c"),
            (400, b"\xa0chunked"),
            (400, b""),
            (501, b"chunked, chunked"),
        )
    ),
    (
        501,
        "§6.1 coding twice",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    *(
        (
            400,
            f"RFC 9110 §8.6 length {length!r}",
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: " + length + b"\r\n\r\nhello",
        )
        for length in (b"+5", b"-5", b"5_0", b"5,5", b"5 5", b"", b"0x5", b"\xb2", b"9" * 19)
    ),
    (
        400,
        "§8.6 two lengths",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
    ),
    (400, "§2.2 bare LF", b"GET / HTTP/1.1\nHost: a\n\n"),
    (400, "§2.2 bare LF in a head", b"GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n"),
    (400, "§2.2 bare CR", b"GET / HTTP/1.1\r\nHost: a\rX: y\r\n\r\n"),
    (400, "§5.1 blank before colon", b"GET / HTTP/1.1\r\nHost: a\r\nX : y\r\n\r\n"),
    (400, "§5.2 folded line", b"GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n z\r\n\r\n"),
    (400, "§5 first line begins with blank", b"GET / HTTP/1.1\r\n Host: a\r\n\r\n"),
    (400, "§5 no colon", b"GET / HTTP/1.1\r\nHost: a\r\nX\r\n\r\n"),
    (400, "§5 no name", b"GET / HTTP/1.1\r\nHost: a\r\n: x\r\n\r\n"),
    (400, "§5 name is no token", b"GET / HTTP/1.1\r\nHost: a\r\nX(y): z\r\n\r\n"),
    (400, "RFC 9110 §5.5 NUL", b"GET / HTTP/1.1\r\nHost: a\r\nX: a\x00b\r\n\r\n"),
    (400, "RFC 9110 §5.5 control", b"GET / HTTP/1.1\r\nHost: a\r\nX: a\x01b\r\n\r\n"),
    (400, "§3 no version", b"GET /\r\nHost: a\r\n\r\n"),
    (505, "RFC 9110 §15.6.6 2.0", b"GET / HTTP/2.0\r\nHost: a\r\n\r\n"),
    (505, "0.9", b"GET / HTTP/0.9\r\nHost: a\r\n\r\n"),
    (400, "version of another protocol", b"OPTIONS / RTSP/1.0\r\nHost: a\r\n\r\n"),
    (400, "version in lower case", b"GET / http/1.1\r\nHost: a\r\n\r\n"),
    (505, "HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    (501, "RFC 9110 §9.1 method", b"FOO / HTTP/1.1\r\nHost: a\r\n\r\n"),
    (501, "§9.1 method's case", b"get / HTTP/1.1\r\nHost: a\r\n\r\n"),
    (501, "CONNECT", b"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, "TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
    (400, "two blanks", b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, "blank in target", b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, "fragment", b"GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, "bytes beyond ASCII", b"GET /\xc3\xa9 HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, "control in target", b"GET /\x01 HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, "star", b"GET * HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, "relative", b"GET a HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, "other scheme", b"GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n"),
    (417, "RFC 9110 §10.1.1", b"POST / HTTP/1.1\r\nHost: a\r\nExpect: tea\r\n\r\n"),
]
CHUNKS = [
    b"-3\r\nabc\r\n0\r\n\r\n",
    b"+3\r\nabc\r\n0\r\n\r\n",
    b"0x3\r\nabc\r\n0\r\n\r\n",
    b"3_0\r\nabc\r\n0\r\n\r\n",
    b"3 \r\nabc\r\n0\r\n\r\n",
    b"3\nabc\n0\n\n",
    b"3\r\nabcd\r\n0\r\n\r\n",
    b"3\r\nabc0\r\n\r\n",
    b"3;a\nb\r\nabc\r\n0\r\n\r\n",
    b"3;a\rb\r\nabc\r\n0\r\n\r\n",
    b"f" * 20 + b"\r\n",
    b"\r\n\r\n",
    b"g\r\n",
]
MALFORMED += [
    (
        400,
        f"RFC 9112 §7.1 {chunk!r}",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk,
    )
    for chunk in CHUNKS
]


@pytest.mark.parametrize(("status", "why", "data"), MALFORMED, ids=[row[1] for row in MALFORMED])
def test_what_is_no_request_is_refused(status: int, why: str, data: bytes) -> None:
    """The same status however it is cut; nothing of it ends as a complete request."""
    pieces: list[list[bytes]] = [[data], [data[i : i + 1] for i in range(len(data))]]
    for cut in pieces:
        reader = Recorder()
        with pytest.raises(PeerError) as caught:
            for piece in cut:
                reader.take(piece)
        assert status == caught.value.status, caught.value.message
        assert "end" not in reader.events


@pytest.mark.parametrize("version", [b"1.2", b"1.9"])
def test_a_later_minor_version_is_served_as_1_1(version: bytes) -> None:
    """RFC 9110 §6.2: its sender has to understand a response in HTTP/1.1."""
    line = b"GET / HTTP/" + version
    assert events(line + b"\r\nHost: a\r\n\r\n") == events(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")


def test_a_refused_line_is_not_remembered() -> None:
    """What was refused once is refused again."""
    for _ in range(2):
        with pytest.raises(PeerError):
            events(b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n")


@pytest.mark.parametrize(
    ("status", "limits", "data"),
    [
        (414, Limits(line=64), b"GET /" + b"a" * 64 + b" HTTP/1.1\r\n" + HOST + b"\r\n"),
        (414, Limits(line=64), b"GET /" + b"a" * 100),
        (501, Limits(line=64), b"G" * 100),
        (501, Limits(line=64), b"G" * 65 + b" / HTTP/1.1\r\n" + HOST + b"\r\n"),
        (431, Limits(headers=256), b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 256 + b"\r\n\r\n"),
        (431, Limits(headers=256), b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 300),
        (431, Limits(fields=3), b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 3 + b"\r\n"),
        (413, Limits(body=3), b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n"),
        (
            413,
            Limits(body=3),
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"2\r\nab\r\n2\r\ncd\r\n",
        ),
        (
            431,
            Limits(),
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1;" + b"x" * 20000,
        ),
        (
            431,
            Limits(),
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"0\r\n" + b"A: b\r\n" * 4000,
        ),
    ],
)
def test_limits(status: int, limits: Limits, data: bytes) -> None:
    """Each limit counts, however the bytes come."""
    for size in (1, 100, len(data)):
        reader = Recorder(limits)
        with pytest.raises(PeerError) as caught:
            for i in range(0, len(data), size):
                reader.take(data[i : i + size])
        assert status == caught.value.status


def test_what_is_just_within_the_limits_passes() -> None:
    line = b"GET /" + b"a" * (64 - 14) + b" HTTP/1.1"
    head = line + b"\r\nHost: a\r\nX: " + b"y" * (256 - 9 - 3 - 2) + b"\r\n\r\n"
    reader = Recorder(Limits(line=len(line), headers=256, fields=2))
    reader.take(head)
    assert len(reader.events) == 1


def test_as_many_trailers_pass_as_headers_and_no_more() -> None:
    head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"
    Recorder(Limits(fields=3)).take(head + b"A: b\r\n" * 3 + b"\r\n")
    with pytest.raises(PeerError) as caught:
        Recorder(Limits(fields=3)).take(head + b"A: b\r\n" * 4 + b"\r\n")
    assert caught.value.status == 431


def test_repeated_headers_do_not_hide_another_request() -> None:
    """The short way for repeated headers sees only what is one request."""
    head = b"GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\n\r\n"
    reader = Recorder()
    reader.take(head).take(head)
    reader.take(b"POST /p HTTP/1.1\r\nHost: b\r\nX: 1\r\n\r\n")
    reader.take(b"GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\nX: 1\r\n\r\n")
    reader.take(head + head)
    assert [event[0][0] for event in reader.events] == ["GET", "GET", "POST", "GET", "GET", "GET"]
    assert reader.events[2][1][0] == (b"host", b"b")
    assert [event[0][4] for event in reader.events][3]  # that one came as HTTP/1.0
    assert [event[3] for event in reader.events] == [True] * 6
    with pytest.raises(PeerError):
        reader.take(b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\nX: 1\r\n\r\n")


def test_what_an_app_does_to_its_headers_stays_with_it() -> None:
    """The list is the request's own, also when its headers repeat."""
    head = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    reader = Recorder()
    for _ in range(3):
        reader.take(head)
        reader.events[-1][1].append((b"x", b"y"))
    assert [len(event[1]) for event in reader.events] == [2, 2, 2]


def test_the_tables_are_bounded() -> None:
    for number in range(heads.MOST + 10):
        events(b"GET /%d HTTP/1.1\r\nHost: a\r\nX: %d\r\n\r\n" % (number, number))
    assert len(heads.request_lines) <= heads.MOST
    assert len(heads.fields) <= heads.MOST
