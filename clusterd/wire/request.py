"""The reading half of HTTP/1: bytes in, requests out, by callbacks instead of lists of events.

`Reader` drives httptools' C parser and adds what that parser leaves out: limits, Host, versions,
transfer codings, trailing blanks. Whoever serves derives from it and gets `on_request`,
`on_body_part` and `on_request_end`; nothing here knows where the bytes come from. A malformed
request is a PeerError from `feed` with the status to answer; after one the reader is spent.

A chunk that is small and begins a request takes the short way: its own length proves that it
breaks no limit, so only the number of fields is counted. Whatever is torn, large or has a body in
it is fed in slices that end where a request ends, so that what follows stays unparsed until the
requests before it are answered.
"""

from collections.abc import Callable
from typing import NamedTuple

import httptools

from clusterd.core.errors import PeerError
from clusterd.wire.tables import HOST, METHODS, NOTABLE, PLAIN, TOKEN
from clusterd.wire.target import _hosts, _targets, authority, check_host, parse_target

SHORT = 1024  # bytes; a chunk this small holds at most 38 requests, which may queue up parsed
STRIDE = 512  # bytes of a chunked body that one slice takes at least
OVERHEAD = 16 * 1024  # bytes of chunk lines or trailers in a row, without a byte of body
LAST = b" HTTP/1.1\r\n"
BODYLESS, CHUNKED = 0, -1


class Limits(NamedTuple):
    """What a request may take: bytes of its first line, bytes and number of its fields, body."""

    line: int = 8192
    headers: int = 65536
    fields: int = 100
    body: int = 0


class Reader:
    """One connection's parser. Between `feed`s, `is_parsing` tells whether a request is half
    read; `closed` stops it for good."""

    __slots__ = (
        "_chunk",
        "_drop",
        "_fed",
        "_feed",
        "_headers",
        "_host",
        "_in_body",
        "_limits",
        "_notable",
        "_parser",
        
        "_url",
        "body_left",
        "expects",
        "is_parsing",
        "keeps",
        "short",
        "version",
    )

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.short = min(SHORT, limits.line, limits.headers)
        self._chunk = b""  # the chunk while its first request's head is parsed, on the short way
        self._fed = 0  # bytes of this head, or since the last byte of body
        self._url = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._host: bytes | None = None
        self._notable: list[tuple[bytes, bytes]] | None = None
        self._in_body = False
        self.body_left = BODYLESS
        self._drop = False  # the parser's callbacks mean nothing: see `_ignore_upgrade`
        self.is_parsing = False
        self.keeps = True  # the client lets the connection be kept after this request
        self.expects = False
        self.version = "1.1"
        self._parser = httptools.HttpRequestParser(self)
        self._feed: Callable[[bytes], None] = self._parser.feed_data

    # --- what the deriving class is told

    def on_request(
        self,
        method: str,
        target: tuple[str, bytes, bytes],
        headers: list[tuple[bytes, bytes]],
        length: int,
    ) -> None:
        """A head was read. `length` of the body: BODYLESS, CHUNKED or so many bytes."""

    def on_body_part(self, data: bytes) -> None:
        """A piece of the body of the request last begun."""

    def on_request_end(self) -> None:
        """The request last begun is complete, its body included."""

    # --- feeding

    def feed_short(self, data: bytes) -> bytes:
        """`feed` for a chunk of at most `short` bytes that starts between two requests."""
        self._chunk = data
        try:
            self._feed(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._chunk = b""
            rest = self._after_error(error, data)
            return self.feed(rest) if rest and self.is_parsing else rest
        self._chunk = b""
        if self.is_parsing:
            self._fed = len(data)
        return b""

    def feed(self, data: bytes) -> bytes:
        """Parse up to the end of one request; return what comes after it, unparsed."""
        position, size = 0, len(data)
        while position < size:
            end = self._slice_end(data, position)
            piece = data if end - position == size else data[position:end]
            position = end
            if not self._in_body or self.body_left == CHUNKED:
                self._fed += len(piece)
            try:
                self._feed(piece)
            except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
                data = self._after_error(error, piece) + data[position:]
                position, size = 0, len(data)
            if not self.is_parsing:
                self._fed = 0
                return data[position:]
            self._check_fed()
        return b""

    def _slice_end(self, data: bytes, position: int) -> int:
        """Where the request that we are in ends at the earliest."""
        if self._in_body and self.body_left > 0:
            return min(len(data), position + self.body_left)
        start = position + STRIDE if self._in_body else position
        end = data.find(b"\r\n\r\n", start)
        return end + 4 if end >= 0 else len(data)

    def _check_fed(self) -> None:
        """Judge a head, a chunk line or a trailer that has no end yet."""
        if self._in_body:
            if self.body_left == CHUNKED and self._fed > OVERHEAD:
                raise PeerError(431, "chunk extensions or trailers are too long")
        elif self._fed > self._limits.line:
            if not self._headers and not self._url:
                raise PeerError(414, "the request line is too long")
            self._measure(self._headers)
            if self._fed > self._limits.line + self._limits.headers:
                raise PeerError(431, "the request headers are too long")

    def _measure(self, headers: list[tuple[bytes, bytes]]) -> None:
        """Judge what is there of a head that did not come in one short chunk."""
        # The method, blanks, version and line end of the request line.
        if len(self._url) + 20 > self._limits.line:
            raise PeerError(414, "the request line is too long")
        size = sum([len(name) + len(value) + 4 for name, value in headers])
        if size > self._limits.headers:
            raise PeerError(431, "the request headers are too long")

    # --- the parser's callbacks, in the order in which the bytes arrive

    def on_message_begin(self) -> None:
        if self._drop:
            return
        self.is_parsing = True
        self._url = b""
        self._headers = []
        self._host = self._notable = None

    def on_url(self, part: bytes) -> None:
        self._url += part

    def on_header(self, name: bytes, value: bytes) -> None:
        # One lookup for the names that most headers have: measured 0.05 µs a header below lower().
        plain = PLAIN.get(name)
        if plain is None:
            plain = name.lower()
            if plain == HOST:
                if self._host is None:
                    self._host = value
                else:
                    raise PeerError(400, "there is more than one Host")
            elif plain in NOTABLE and (plain != b"connection" or value != b"keep-alive"):
                if self._notable is None:
                    self._notable = []
                self._notable.append((plain, value))
        self._headers.append((plain, value))

    def on_headers_complete(self) -> None:
        if self._drop:
            return
        headers = self._headers
        self._headers = []  # trailers fall in here, and are dropped
        if len(headers) > self._limits.fields:
            raise PeerError(431, "there are too many request headers")
        chunk, url, host = self._chunk, self._url, self._host
        raw_method = self._parser.get_method()
        method = METHODS.get(raw_method)
        if method is None:
            raise PeerError(501, "the method is not implemented")
        # The version, seen where it must stand: a third of the cost of asking the parser for it.
        # On any doubt (blank lines first, a second request in the chunk) the long way is taken.
        if not chunk.startswith(LAST, len(raw_method) + len(url) + 1):
            self._check_version()
        elif self.version != "1.1":
            self.version = "1.1"
        if not chunk:
            self._measure(headers)
        if not chunk or b" \r\n" in chunk or b"\t\r\n" in chunk:
            headers = [(name, value.rstrip(b" \t")) for name, value in headers]
            host = None if host is None else host.rstrip(b" \t")
        self._chunk = b""  # what follows in this chunk does not begin it
        if host not in _hosts:
            if host is not None:
                check_host(host)
            elif self.version == "1.1":
                raise PeerError(400, "there is no Host")
        target = _targets.get(url)
        if target is None:
            target = parse_target(url, method)
            headers = self._with_authority(url, headers)
        if self._notable is None and self.version == "1.1":
            self.keeps = True
            self.expects = False
            self.on_request(method, target, headers, BODYLESS)
        else:
            self._begin_notable(method, target, headers)

    def on_body(self, data: bytes) -> None:
        if self.body_left > 0:
            self.body_left -= len(data)
        self._fed = 0
        self.on_body_part(data)

    def on_message_complete(self) -> None:
        if self._drop:
            return
        self.is_parsing = self._in_body = False
        self.on_request_end()

    # --- the long way

    def _check_version(self) -> None:
        version = self._parser.get_http_version()
        if version == "0.9":
            raise PeerError(400, "the request line has no version")
        if version not in ("1.1", "1.0"):
            raise PeerError(505, "only HTTP/1.1 and HTTP/1.0 are spoken here")
        self.version = version

    def _with_authority(
        self, url: bytes, headers: list[tuple[bytes, bytes]]
    ) -> list[tuple[bytes, bytes]]:
        """For a target in absolute form: its authority is the Host (RFC 9112 §3.2.2)."""
        host = None if url[:1] == b"/" else authority(url)
        if host is None:
            return headers
        return [(HOST, host), *(pair for pair in headers if pair[0] != HOST)]

    def _begin_notable(
        self,
        method: str,
        target: tuple[str, bytes, bytes],
        headers: list[tuple[bytes, bytes]],
    ) -> None:
        """A head with fields that change how the request is framed or kept, or of HTTP/1.0."""
        options = _list_of(headers, b"connection")
        old = self.version == "1.0"
        self.keeps = b"close" not in options and (not old or b"keep-alive" in options)
        length = self._length(headers, old)
        expectations = _list_of(headers, b"expect")
        # RFC 9110 §10.1.1: ignored from HTTP/1.0, and where no body can follow.
        self.expects = b"100-continue" in expectations and not old and length != BODYLESS
        if expectations - {b"100-continue"} and not old:
            raise PeerError(417, "only 100-continue can be expected")
        if self._limits.body and length > self._limits.body:
            raise PeerError(413, "the request body is too large")
        self.body_left = length
        self._in_body = length != BODYLESS
        self._drop = self._in_body and self._parser.should_upgrade()
        self.on_request(method, target, headers, length)

    def _length(self, headers: list[tuple[bytes, bytes]], old: bool) -> int:
        """The body's length. The parser refused most of what is wrong; we do not rely on it."""
        lengths = [value for name, value in headers if name == b"content-length"]
        codings = [value for name, value in headers if name == b"transfer-encoding"]
        if codings:
            # RFC 9112 §6.1: both together, or a coding from HTTP/1.0, is how smuggling begins.
            if lengths or old:
                raise PeerError(400, "Transfer-Encoding has no place here")
            if len(codings) > 1 or codings[0].lower() != b"chunked":
                final = codings[-1].lower().rpartition(b",")[2].strip(b" \t")
                known = final == b"chunked"
                raise PeerError(501 if known else 400, "only the coding chunked is understood")
            return CHUNKED
        if not lengths:
            return BODYLESS
        if len(lengths) > 1 or not lengths[0].isdigit() or len(lengths[0]) > 19:
            raise PeerError(400, "Content-Length is malformed")
        return int(lengths[0])

    # --- when the parser stops

    def _after_error(self, error: Exception, data: bytes) -> bytes:
        """Raise what the parser's error means; or go on after an Upgrade, with what is left."""
        if isinstance(error, httptools.HttpParserUpgrade):
            return self._ignore_upgrade(data[error.args[0] :])
        if isinstance(error.__context__, PeerError):
            raise error.__context__ from None
        if isinstance(error, httptools.HttpParserCallbackError) and error.__context__:
            raise error.__context__
        raise _refusal(error, data, self._in_body) from None

    def _ignore_upgrade(self, rest: bytes) -> bytes:
        """We know no protocol to change to: the request is one like any other (RFC 9110 §7.8).

        The parser ends such a request at its head. If it has a body, a parser that was fed a
        made-up head takes over, so that the body cannot be taken for the next request.
        """
        length = self.body_left
        self._parser = httptools.HttpRequestParser(self)
        self._feed = self._parser.feed_data
        if self._drop:
            framing = b"Transfer-Encoding: chunked" if length < 0 else b"Content-Length: %d" % length
            self._feed(b"POST / HTTP/1.1\r\n" + framing + b"\r\n\r\n")
            self._drop = False
        return rest


def _list_of(headers: list[tuple[bytes, bytes]], wanted: bytes) -> set[bytes]:
    """The members of a comma-separated field, lower-cased."""
    return {
        member.strip(b" \t")
        for name, value in headers
        if name == wanted
        for member in value.lower().split(b",")
    } - {b""}


def _refusal(error: Exception, data: bytes, in_body: bool) -> PeerError:
    """The status that an error of the parser's earns."""
    text = str(error)
    if isinstance(error, httptools.HttpParserInvalidMethodError) and not in_body:
        method, blank, _ = data.lstrip(b"\r\n").partition(b" ")
        if blank and TOKEN.fullmatch(method):
            return PeerError(501, "the method is not implemented")
        return PeerError(400, "this is not HTTP")
    if text == "Invalid HTTP version" or "PRI" in text:
        return PeerError(505, "only HTTP/1.1 and HTTP/1.0 are spoken here")
    return PeerError(400, f"the request is malformed: {text}")
