"""What is asked: the file of weighted paths, the bytes of a request, and which one is next.

A line of the file is `[WEIGHT] [METHOD] PATH [Name:value …] [@FILE | body=TEXT]`, in the shell's
quotes where blanks are meant; empty lines and lines that begin with # are left out:

    # weight  method  path              headers, body
    70                /
    20        POST    /items            content-type:application/json @item.json
    10                '/search?q=two words'

WEIGHT is 1 if it is left out, METHOD is GET, or POST with a body. A file of a body is looked for
beside the file that names it.
"""

import random
import re
import shlex
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from itertools import repeat
from math import gcd, lcm
from pathlib import Path

from clusterd.bench.load import HTTP, SSE, WEBSOCKET, Request, Target
from clusterd.bench.target import PORTS, quoted
from clusterd.core.errors import ConfigError
from clusterd.wire.tables import METHODS, TOKEN, VALUE

FORM = "A line is [WEIGHT] [METHOD] PATH [Name:value …] [@FILE | body=TEXT]"
NUMBER = re.compile(r"[0-9]+(?:\.[0-9]*)?|\.[0-9]+", re.ASCII)
METHOD = re.compile(r"[A-Za-z-]+", re.ASCII)
# Headers that say how a message is framed, or what becomes of its connection: ours to send.
OURS = {
    "connection": "--fresh opens a new connection for every request",
    "content-length": "it is the body's",
    "expect": "bodies are sent with their heads",
    "keep-alive": "--fresh opens a new connection for every request",
    "transfer-encoding": "bodies are sent with a content-length",
    "upgrade": "--websocket asks for one",
}
LISTENING = (("Accept", "text/event-stream"),)  # as browsers ask for events; some servers insist
WITH_BODY = frozenset({"POST", "PUT", "PATCH"})  # a length is expected even if it is 0
LONGEST_BODY = 64 << 20  # bytes; every generator holds it, and is told it in a line
MOST_CARDS = 100_000  # of a deck; finer weights than this are rounded

Headers = tuple[tuple[str, str], ...]


def load_paths(
    text: str, *, place: str | Path = ".", headers: Headers = (), name: str = "paths"
) -> tuple[Request, ...]:
    """The requests of a file of weighted paths. `headers` are sent with each that does not name
    them itself; `name` is the file's, for errors. Raises ConfigError, with the line's number."""
    requests = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip() and not line.lstrip().startswith("#"):
            try:
                requests.append(parse_line(line, place=place, headers=headers))
            except ConfigError as error:
                where = f"{name}, line {number}: {error.message}"
                raise ConfigError(where, error.remedy) from None
    if not requests:
        raise ConfigError(f"{name} names no path", FORM)
    return tuple(requests)


def parse_line(
    line: str,
    *,
    place: str | Path = ".",
    headers: Headers = (),
    method: str = "",
    body: bytes = b"",
) -> Request:
    """One request; `headers`, `method` and `body` are what it has unless it says otherwise."""
    try:
        words = shlex.split(line)
    except ValueError as error:
        raise ConfigError(f"{line.strip()!r} cannot be split: {error}", FORM) from None
    weight = _weight(words.pop(0)) if words and NUMBER.fullmatch(words[0]) else 1.0
    if words and METHOD.fullmatch(words[0]):
        method = parse_method(words.pop(0))
    if not words or not words[0].startswith("/"):
        found = f"{words[0]!r} is no path: it begins with /" if words else "there is no path"
        raise ConfigError(found, FORM)
    path = quoted(words.pop(0))
    own: list[tuple[str, str]] = []
    for word in words:
        if word.startswith("@"):
            body = read_body(Path(place) / word[1:])
        elif word.startswith("body="):
            body = word.removeprefix("body=").encode()
        else:
            own.append(parse_header(word))
    return Request(path, method or ("POST" if body else "GET"), merged(headers, own), body, weight)


def parse_requests(
    target: Target,
    *,
    method: str = "",
    headers: Sequence[str] = (),
    body: bytes | None = None,
    body_file: str = "",
    paths: Sequence[str] = (),
    paths_file: str = "",
    protocol: str = HTTP,
) -> tuple[Request, ...]:
    """The requests that options ask for; raises ConfigError.

    `paths` are lines of the file's form, and `paths_file` is the name of a file; without either
    the target's own path is asked for.
    """
    if body is not None and body_file:
        raise ConfigError("a body is given twice: as text and as a file")
    if paths and paths_file:
        raise ConfigError("paths are given twice: as a file and one by one")
    usual = LISTENING if protocol == SSE else ()
    given = merged(usual, [parse_header(one) for one in headers])
    data = read_body(Path(body_file)) if body_file else body or b""
    method = parse_method(method) if method else ""
    if paths_file:
        if method or data:
            raise ConfigError(
                "a file of paths is given besides a method or a body", f"It has its own. {FORM}"
            )
        text = read_text(Path(paths_file))
        place = Path(paths_file).parent
        requests = load_paths(text, place=place, headers=given, name=paths_file)
    elif paths:
        requests = tuple(parse_line(one, headers=given, method=method, body=data) for one in paths)
    else:
        method = method or ("POST" if data else "GET")
        requests = (Request(target.path, method, given, data),)
    _check(requests, protocol)
    return requests


def _check(requests: Sequence[Request], protocol: str) -> None:
    """Raise ConfigError for what a WebSocket or a stream of events cannot begin with."""
    for request in requests:
        if protocol == WEBSOCKET and (request.method != "GET" or request.body):
            raise ConfigError("a WebSocket begins with a GET that has no body")
        if protocol == SSE and request.method == "HEAD":
            raise ConfigError("an answer to HEAD has no events")


def parse_method(text: str) -> str:
    """In capitals, as methods are sent."""
    method = text.upper()
    if method == "CONNECT" or not TOKEN.fullmatch(method.encode()):
        raise ConfigError(f"{text!r} is no method", f"Usual ones: {', '.join(METHODS.values())}")
    return method


def parse_header(text: str) -> tuple[str, str]:
    """Name and value from `Name: value`; raises ConfigError."""
    name, colon, value = text.partition(":")
    value = value.strip(" \t")
    if not colon or not TOKEN.fullmatch(name.encode()):
        raise ConfigError(f"{text!r} is no header", "Give its name and value: 'Accept: text/html'")
    if not VALUE.fullmatch(value.encode()):
        raise ConfigError(f"the value of header {name} has control characters in it")
    if (why := OURS.get(name.lower())) is not None:
        raise ConfigError(f"header {name} cannot be given", f"It is sent where it has to be: {why}")
    return name, value


def merged(headers: Headers, own: Sequence[tuple[str, str]]) -> Headers:
    """All headers; a name that is among its own is not taken from those of all."""
    named = {name.lower() for name, _ in own}
    return (*(pair for pair in headers if pair[0].lower() not in named), *own)


def read_body(path: Path) -> bytes:
    """The bytes of a body; raises ConfigError for a file that cannot be read, or never ends."""
    try:
        with path.open("rb") as file:
            body = file.read(LONGEST_BODY + 1)
    except OSError as error:
        raise ConfigError(f"the body {path} cannot be read: {error.strerror}") from None
    if len(body) > LONGEST_BODY:
        raise ConfigError(f"the body {path} has more than {LONGEST_BODY >> 20} MiB")
    return body


def read_text(path: Path) -> str:
    """A file of paths; raises ConfigError where it cannot be read."""
    try:
        return path.read_text()
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is no text in UTF-8") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None


def _weight(text: str) -> float:
    weight = float(text)
    if not 0 < weight < 1e9:
        raise ConfigError(f"{text} is no weight: it is above 0, and below a billion")
    return weight


def host_of(target: Target) -> str:
    """The value of Host: with the port unless it is the scheme's own (RFC 9110 §7.2)."""
    host = target.host.partition("%")[0]  # the zone of an IPv6 address is nobody else's business
    host = f"[{host}]" if ":" in host else host
    usual = target.unix or target.port == PORTS[target.scheme]
    return host if usual else f"{host}:{target.port}"


def rendered(request: Request, target: Target, *, close: bool = False) -> bytes:
    """The whole request in bytes. `close` asks the server to close the connection afterwards.

    Besides what was asked for there is Host alone, as wrk sends it: each header more costs the
    server some microseconds, and figures would not compare.
    """
    lines = [f"{request.method} {request.path} HTTP/1.1"]
    if not any(name.lower() == "host" for name, _ in request.headers):
        lines.append(f"Host: {host_of(target)}")
    lines += [f"{name}: {value}" for name, value in request.headers]
    if request.body or request.method in WITH_BODY:
        lines.append(f"Content-Length: {len(request.body)}")
    if close:
        lines.append("Connection: close")
    return "\r\n".join([*lines, "", ""]).encode() + request.body


def cards(weights: Sequence[float]) -> list[int]:
    """How many of each make a deck with these shares: the fewest that are exact, if they are few;
    else rounded, and at least one of each."""
    exact = [Fraction(repr(weight)) for weight in weights]
    common = lcm(*(one.denominator for one in exact))
    whole = [int(one * common) for one in exact]
    divisor = gcd(*whole)
    counts = [one // divisor for one in whole]
    if sum(counts) <= MOST_CARDS:
        return counts
    return [max(1, round(one * MOST_CARDS / sum(counts))) for one in counts]


class Deck:
    """Which request is next: each deck holds every request as often as its weight says, shuffled;
    so shares are exact however short the run is. The same seed gives the same order."""

    __slots__ = ("draw",)

    draw: Callable[[], int]  # the index of the next request

    def __init__(self, requests: Sequence[Request], seed: int) -> None:
        # The iterators' own methods: a method of ours would cost more (measured: 0.2 µs a draw,
        # and 0.04 µs of a single request).
        if len(requests) == 1:
            self.draw = repeat(0).__next__
        else:
            self.draw = _dealt(cards([one.weight for one in requests]), seed).__next__


def _dealt(counts: Sequence[int], seed: int) -> Iterator[int]:
    """One deck after another. A card at a time (Fisher and Yates): to shuffle the whole deck at
    once would hold up an open loop by milliseconds."""
    deck = [index for index, count in enumerate(counts) for _ in range(count)]
    rolled = random.Random(seed).random
    while True:
        for last in range(len(deck) - 1, -1, -1):
            at = int(rolled() * (last + 1))
            card = deck[at]
            deck[at] = deck[last]
            deck[last] = card
            yield card
