"""The access log: one line a request.

What a client sent is escaped, so that it can neither forge a line nor drive a terminal. Nothing is
waited for: a reader that does not keep up, or a full disk, costs lines, which are counted.

Lines are gathered and written when the worker's counters are published: at once after a quiet time,
every 20 ms under load. A write a turn of the loop takes a turn more, which cost as much as all else
(measured).
"""

import json
import operator
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from json.encoder import encode_basestring_ascii
from typing import Any

from clusterd.app.scope import REQUEST_ID as ID
from clusterd.app.scope import Scope
from clusterd.core.log import fields, get_logger
from clusterd.wire.heads import Pair
from clusterd.wire.tables import METHODS
from clusterd.worker.identity import Names
from clusterd.worker.outlet import Outlet

logger = get_logger("clusterd.access")

ESCAPES = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0x100))}
ESCAPES |= {ord('"'): '\\"', ord("\\"): "\\\\"}
MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
MOST = 2048  # texts whose escaped form is remembered
LONGEST = 256  # bytes of a text worth remembering
CUT = 200  # bytes that are shown of what was no request
QUIET = 1.0  # seconds between two complaints about lost lines
NOBODY: Scope = {"method": "", "client": None}
NONSENSE = ("", "-", "")

# What common lines are made of.
PARTS = operator.itemgetter(
    "client", "method", "raw_path", "query_string", "http_version", "headers"
)
VERBS = {method: b"%b " % name for name, method in METHODS.items()}
VERSIONS = {version: f' HTTP/{version}"'.encode() for version in ("1.0", "1.1", "2")}
STATUSES = {status: b" %d " % status for status in range(200, 600)}
NUMBERS = 4096
NO_HEADERS: list[Pair] = [(b"", b"")]
# The same for JSON.
THOUSANDS = [b"%03d" % number for number in range(1000)]
JSON_VERBS = {method: b'", "method": "%b", "target": "' % name for name, method in METHODS.items()}
JSON_VERSIONS = {
    version: f'", "http": "{version}", "status": '.encode() for version in ("1.0", "1.1", "2")
}
JSON_STATUSES = {status: b'%d, "bytes": ' % status for status in range(200, 600)}
MICROS = 1_000_000  # in a second
MICROSECONDS = b', "microseconds": '


class Texts(dict[Any, Any]):
    """What a client sent → what is written of it; clients repeat themselves."""

    def __init__(self, make: Callable[[Any], Any]) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, raw: Any) -> Any:
        made = self._make(raw)
        if len(raw) <= LONGEST:
            if len(self) >= MOST:
                self.clear()
            self[raw] = made
        return made


class AccessLog(ABC):
    """Writes to a descriptor that others own. Never raises: a full disk must not cost a request."""

    def __init__(self, fd: int, identity: Mapping[str, Any]) -> None:
        self.names = Names()
        self.lost = 0  # lines
        self._told = 0  # of them, and of how many that was said
        self._quiet_until = 0.0
        self._out = Outlet(fd)
        self._pieces: list[bytes] = []  # of lines
        self._second = -1
        self._stamp = ""
        self._middle = b""  # of a common line, between its client and its method
        self._texts = Texts(self._write_out)

    # --- what the styles differ in

    @staticmethod
    @abstractmethod
    def escape(text: str) -> str:
        """What a client sent, as it may stand in a line."""

    @staticmethod
    @abstractmethod
    def stamp(second: int) -> str:
        """The time, as it stands in each line."""

    @abstractmethod
    def _line(
        self,
        host: str,
        asked: tuple[str, str, str],
        status: int,
        size: int,
        seconds: float,
        headers: list[Pair],
    ) -> str:
        """One line. Asked are method, target and version, or '' and what was no request."""

    # --- what is logged

    def add(self, scope: Scope, status: int, size: int, seconds: float) -> None:
        """A request: its status, the bytes sent in answer, and the time since its head had come."""
        if not self._pieces:
            self._begin()
        texts = self._texts
        try:
            client = scope["client"]
            target = texts[scope["raw_path"]]
            query = scope["query_string"]
            if query:
                target = f"{target}?{texts[query]}"
            line = self._line(
                # Who is at a Unix socket has no address. What is here may be an app's own idea of
                # proxies or methods, and so a client's word again.
                texts[client[0]] if client is not None and client[1] is not None else "-",
                (texts[scope["method"]], target, texts[scope["http_version"]]),
                status,
                size,
                seconds,
                scope["headers"],
            )
        except Exception:  # the scope is the app's by now
            line = self._line("-", NONSENSE, status, size, seconds, NO_HEADERS)
        self._pieces.append(line.encode("ascii", "backslashreplace"))

    def add_refused(self, scope: Scope, read: bytes, status: int, size: int) -> None:
        """What we answered without the app. Where it did not become a request, the scope is still
        its connection's template, and `read` is what there is of its head."""
        if scope["method"]:
            self.add(scope, status, size, 0.0)
            return
        if not self._pieces:
            self._begin()
        text = self._texts[read.partition(b"\n")[0].rstrip(b"\r")[:CUT]]
        client = scope["client"]
        host = client[0] if client is not None and client[1] is not None else "-"
        line = self._line(host, ("", text or "-", ""), status, size, 0.0, NO_HEADERS)
        self._pieces.append(line.encode("ascii", "backslashreplace"))

    def _write_out(self, raw: bytes | str) -> str:
        return self.escape(raw if isinstance(raw, str) else raw.decode("latin-1"))

    def _name(self, value: bytes) -> str:
        """A request's name, which is its own: to remember it would be of no use."""
        return value.decode() if value.isalnum() else self.escape(value.decode("latin-1"))

    def _begin(self) -> None:
        """The first line after the last were written: what time is it?"""
        now = int(time.time())
        if now != self._second:
            self._second = now
            self._stamp = self.stamp(now)
            self._middle = f' - - [{self._stamp}] "'.encode()

    # --- where it goes

    def reopen(self, fd: int) -> None:
        """Write to another descriptor from now on. The old one is its owner's to close."""
        self.close()
        self._out = Outlet(fd)

    def close(self) -> None:
        """Write what is left, and let go of the descriptor."""
        self.flush()
        self._out.close()

    def flush(self) -> None:
        """Write what was gathered, or lose it."""
        if self._pieces:
            data = b"".join(self._pieces)
            self._pieces.clear()
            lost = self._out.write(data)
            self.lost += lost
            if not lost and self.lost > self._told:
                self._complain()

    def _complain(self) -> None:
        """Say that lines were lost, now that there may be somebody to hear it."""
        now = time.monotonic()
        if now >= self._quiet_until:
            self._quiet_until = now + QUIET
            lost, self._told = self.lost - self._told, self.lost
            logger.warning("lines of the access log were lost", extra=fields(lines=lost))


class Plain(AccessLog):
    """What the common log format and its kin share."""

    @staticmethod
    def escape(text: str) -> str:
        # Nearly all are plain, and to translate costs twenty times as much as to look.
        if text.isascii() and text.isprintable() and '"' not in text and "\\" not in text:
            return text
        return text.translate(ESCAPES)

    @staticmethod
    def stamp(second: int) -> str:
        t = time.localtime(second)
        return (
            f"{t.tm_mday:02d}/{MONTHS[t.tm_mon - 1]}/{t.tm_year}:"
            f"{t.tm_hour:02d}:{t.tm_min:02d}:{t.tm_sec:02d} {time.strftime('%z', t)}"
        )


class Common(Plain):
    """The common log format, then the time taken and the request's name."""

    def __init__(self, fd: int, identity: Mapping[str, Any]) -> None:
        super().__init__(fd, identity)
        self._raws = Texts(lambda raw: self._write_out(raw).encode("ascii"))
        self._hosts: dict[str, bytes] = {}
        self._numbers = [b"%d " % number for number in range(NUMBERS)]

    def add(self, scope: Scope, status: int, size: int, seconds: float) -> None:
        # What nearly all lines are, in pieces that are there already: half of what it costs to
        # format them (measured). All that is unusual goes the long way.
        try:
            client, method, path, query, version, headers = PARTS(scope)
            name, value = headers[-1]
            micros = int(seconds * 1e6)
            pieces = (
                self._hosts[client[0]],
                self._middle,
                VERBS[method],
                self._raws[path] if not query else self._target(path, query),
                VERSIONS[version],
                STATUSES[status],
                self._numbers[size] if size < NUMBERS else b"%d " % size,
                self._numbers[micros] if micros < NUMBERS else b"%d " % micros,
                value,
                b"\n",
            )
        except Exception:
            self._learn(scope)
        else:
            if name is ID and self._pieces:
                self._pieces += pieces
                return
        super().add(scope, status, size, seconds)

    def _target(self, path: bytes, query: bytes) -> bytes:
        return b"%b?%b" % (self._raws[path], self._raws[query])

    def _learn(self, scope: Scope) -> None:
        """A client not seen before?"""
        match scope.get("client"):
            case [str(host), int()] if len(host) <= LONGEST:
                if len(self._hosts) >= MOST:
                    self._hosts.clear()
                self._hosts[host] = self._raws[host]

    def _line(
        self,
        host: str,
        asked: tuple[str, str, str],
        status: int,
        size: int,
        seconds: float,
        headers: list[Pair],
    ) -> str:
        method, target, version = asked
        request = f"{method} {target} HTTP/{version}" if method else target
        name, value = headers[-1]
        return (
            f'{host} - - [{self._stamp}] "{request}" {status} {size} {int(seconds * 1e6)} '
            f"{self._name(value) if name == ID else '-'}\n"
        )


class Combined(Plain):
    """As `Common`, with Referer and User-Agent."""

    def _line(
        self,
        host: str,
        asked: tuple[str, str, str],
        status: int,
        size: int,
        seconds: float,
        headers: list[Pair],
    ) -> str:
        method, target, version = asked
        request = f"{method} {target} HTTP/{version}" if method else target
        texts, get = self._texts, dict(headers).get
        return (
            f'{host} - - [{self._stamp}] "{request}" {status} {size} '
            f'"{texts[get(b"referer", b"-")]}" "{texts[get(b"user-agent", b"-")]}" '
            f"{int(seconds * 1e6)} {self._name(get(ID, b'-'))}\n"
        )


class Json(AccessLog):
    """One object per line, which begins as all other records do: time, level, the worker."""

    def __init__(self, fd: int, identity: Mapping[str, Any]) -> None:
        super().__init__(fd, identity)
        self._raws = Texts(lambda raw: self._write_out(raw).encode("ascii"))
        self._hosts: dict[str, bytes] = {}  # with what is the same in all lines before it
        self._abouts: dict[tuple[bytes, bytes], bytes] = {}
        self._numbers = [b"%d" % number for number in range(NUMBERS)]
        self._sizes = [number + MICROSECONDS for number in self._numbers]
        same = {"level": "info", **identity, "message": "request"}
        self._same = f'Z", {json.dumps(same)[1:-1]}, "client": "'
        self._start = b""

    @staticmethod
    def escape(text: str) -> str:
        return encode_basestring_ascii(text)[1:-1].replace("\x7f", "\\u007f")

    @staticmethod
    def stamp(second: int) -> str:
        return time.strftime("%Y-%m-%dT%H:%M:%S.", time.gmtime(second))

    def _begin(self) -> None:
        self._now()

    def _now(self) -> int:
        """Return the microseconds of the current second; `_stamp` and `_start` are up to date."""
        now = time.time()
        fraction = int((now - self._second) * 1e6)
        if not 0 <= fraction < MICROS:
            self._second = second = int(now)
            self._stamp = self.stamp(second)
            self._start = f'{{"time": "{self._stamp}'.encode()
            fraction = int((now - second) * 1e6)
        return fraction

    def add(self, scope: Scope, status: int, size: int, seconds: float) -> None:
        # As in `Common`: what nearly all lines are, in pieces that are there already.
        try:
            client, method, path, query, version, headers = PARTS(scope)
            name, value = headers[-1]
            if name is ID:
                get = dict(headers).get
                about = self._abouts[get(b"referer", b""), get(b"user-agent", b"")]
                fraction, micros, numbers = self._now(), int(seconds * 1e6), self._numbers
                self._pieces += (
                    self._start,
                    THOUSANDS[fraction // 1000],
                    THOUSANDS[fraction % 1000],
                    self._hosts[client[0]],
                    JSON_VERBS[method],
                    self._raws[path]
                    if not query
                    else b"%b?%b" % (self._raws[path], self._raws[query]),
                    JSON_VERSIONS[version],
                    JSON_STATUSES[status],
                    self._sizes[size] if size < NUMBERS else b"%d%b" % (size, MICROSECONDS),
                    numbers[micros] if micros < NUMBERS else b"%d" % micros,
                    about,
                    value,
                    b'"}\n',
                )
                return
        except Exception:
            self._learn(scope)
        super().add(scope, status, size, seconds)

    def _learn(self, scope: Scope) -> None:
        """Remember the client and what it says of itself, if its lines would be common ones."""
        match scope:
            case {"client": [str(host), int()], "headers": [*pairs]} if len(host) <= LONGEST:
                get = dict(pairs).get
                referer, agent = get(b"referer", b""), get(b"user-agent", b"")
                if len(referer) + len(agent) <= LONGEST:
                    if len(self._hosts) >= MOST or len(self._abouts) >= MOST:
                        self._hosts.clear()
                        self._abouts.clear()
                    self._hosts[host] = self._same.encode() + self._raws[host]
                    self._abouts[referer, agent] = self._about(referer, agent).encode()

    def _about(self, referer: bytes, agent: bytes) -> str:
        texts = self._texts
        return f', "referer": "{texts[referer]}", "user_agent": "{texts[agent]}", "request_id": "'

    def _line(
        self,
        host: str,
        asked: tuple[str, str, str],
        status: int,
        size: int,
        seconds: float,
        headers: list[Pair],
    ) -> str:
        method, target, version = asked
        get = dict(headers).get
        about = self._about(get(b"referer", b""), get(b"user-agent", b""))
        fraction = self._now()
        return (
            f'{{"time": "{self._stamp}{fraction:06d}{self._same}{host}", "method": "{method}", '
            f'"target": "{target}", "http": "{version}", "status": {status}, "bytes": {size}, '
            f'"microseconds": {int(seconds * 1e6)}{about}{self._name(get(ID, b""))}"}}\n'
        )


STYLES: dict[str, type[AccessLog]] = {"common": Common, "combined": Combined, "json": Json}
