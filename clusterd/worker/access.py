"""The access log: one line a request, written once a loop turn.

What a client sent is escaped, so that it can neither forge a line nor drive a terminal. Nothing is
waited for: a reader that does not keep up, or a full disk, costs lines, which are counted.
"""

import asyncio
import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from json.encoder import encode_basestring_ascii
from typing import Any

from clusterd.app.scope import Scope
from clusterd.core.log import fields
from clusterd.worker.identity import ID, Names
from clusterd.worker.outlet import Outlet

logger = logging.getLogger("clusterd.access")

ESCAPES = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0x100))}
ESCAPES |= {ord('"'): '\\"', ord("\\"): "\\\\"}
MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
MOST = 2048  # texts whose escaped form is remembered
LONGEST = 256  # bytes of a text worth remembering
CUT = 200  # bytes that are shown of what was no request
QUIET = 1.0  # seconds between two complaints about lost lines
NOBODY: Scope = {"method": "", "client": None, "headers": [(ID, b"-")]}


class Texts(dict[bytes | str, str]):
    """What a client sent → what is written of it; clients repeat themselves."""

    def __init__(self, escape: Callable[[str], str]) -> None:
        super().__init__()
        self._escape = escape

    def __missing__(self, raw: bytes | str) -> str:
        text = self._escape(raw if isinstance(raw, str) else raw.decode("latin-1"))
        if len(raw) <= LONGEST:
            if len(self) >= MOST:
                self.clear()
            self[raw] = text
        return text


class AccessLog(ABC):
    """Writes to a descriptor that others own. Never raises: a full disk must not cost a request."""

    def __init__(self, fd: int, loop: asyncio.AbstractEventLoop) -> None:
        self.names = Names()
        self.lost = 0  # lines
        self._told = 0  # of them, and of how many that was said
        self._quiet_until = 0.0
        self._loop = loop
        self._out = Outlet(fd)
        self._lines: list[str] = []
        self._second = -1
        self._stamp = ""
        self._texts = Texts(self.escape)

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
    def _request(self, scope: Scope) -> str:
        """The part of a line that tells what was asked for."""

    @abstractmethod
    def _nonsense(self, text: str) -> str:
        """The same of what was no request."""

    @abstractmethod
    def _line(self, scope: Scope, request: str, status: int, size: int, seconds: float) -> str:
        """One line. Of the scope are there `client` and `headers`."""

    # --- what is logged

    def add(self, scope: Scope, status: int, size: int, seconds: float) -> None:
        """A request: its status, the bytes sent in answer, and the time since its head had come."""
        if not self._lines:
            self._begin()
        try:
            line = self._line(scope, self._request(scope), status, size, seconds)
        except Exception:  # the scope is the app's, which may have put anything there
            line = self._line(NOBODY, self._nonsense("-"), status, size, seconds)
        self._lines.append(line)

    def add_refused(self, scope: Scope, read: bytes, status: int, size: int) -> None:
        """What we answered without the app. Where it did not become a request, the scope is still
        its connection's template, and `read` is what there is of its head."""
        if scope["method"]:
            self.add(scope, status, size, 0.0)
            return
        if not self._lines:
            self._begin()
        text = self._texts[read.partition(b"\n")[0].rstrip(b"\r")[:CUT]] or "-"
        scope = {**NOBODY, "client": scope["client"]}
        self._lines.append(self._line(scope, self._nonsense(text), status, size, 0.0))

    def _target(self, scope: Scope) -> str:
        query = scope["query_string"]
        target = self._texts[scope["raw_path"]]
        return f"{target}?{self._texts[query]}" if query else target

    def _host(self, client: Any) -> str:
        """An address, which an app's own idea of proxies may have replaced; who is at a Unix socket
        has none."""
        return self._texts[client[0]] if client is not None and client[1] is not None else "-"

    def _begin(self) -> None:
        """The first line of a turn: all are written at its end."""
        self._loop.call_soon(self.flush)
        now = int(time.time())
        if now != self._second:
            self._second = now
            self._stamp = self.stamp(now)

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
        if self._lines:
            data = "".join(self._lines).encode("ascii", "backslashreplace")
            self._lines.clear()
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


class Common(AccessLog):
    """The common log format, then the time taken and the request's name."""

    @staticmethod
    def escape(text: str) -> str:
        return text.translate(ESCAPES)

    @staticmethod
    def stamp(second: int) -> str:
        t = time.localtime(second)
        return (
            f"{t.tm_mday:02d}/{MONTHS[t.tm_mon - 1]}/{t.tm_year}:"
            f"{t.tm_hour:02d}:{t.tm_min:02d}:{t.tm_sec:02d} {time.strftime('%z', t)}"
        )

    def _request(self, scope: Scope) -> str:
        return f"{scope['method']} {self._target(scope)} HTTP/{scope['http_version']}"

    def _nonsense(self, text: str) -> str:
        return text

    def _line(self, scope: Scope, request: str, status: int, size: int, seconds: float) -> str:
        name, value = scope["headers"][-1]
        return (
            f'{self._host(scope["client"])} - - [{self._stamp}] "{request}" {status} {size} '
            f"{seconds:.6f} {self._texts[value] if name == ID else '-'}\n"
        )


class Combined(Common):
    """As `Common`, with Referer and User-Agent."""

    def _line(self, scope: Scope, request: str, status: int, size: int, seconds: float) -> str:
        texts = self._texts
        get = dict(scope["headers"]).get
        return (
            f'{self._host(scope["client"])} - - [{self._stamp}] "{request}" {status} {size} '
            f'"{texts[get(b"referer", b"-")]}" "{texts[get(b"user-agent", b"-")]}" '
            f"{seconds:.6f} {texts[get(ID, b'-')]}\n"
        )


class Json(AccessLog):
    """One object a line."""

    @staticmethod
    def escape(text: str) -> str:
        return encode_basestring_ascii(text)[1:-1]

    @staticmethod
    def stamp(second: int) -> str:
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(second))

    def _request(self, scope: Scope) -> str:
        return (
            f'"method": "{scope["method"]}", "target": "{self._target(scope)}", '
            f'"http": "{scope["http_version"]}"'
        )

    def _nonsense(self, text: str) -> str:
        return f'"request": "{text}"'

    def _line(self, scope: Scope, request: str, status: int, size: int, seconds: float) -> str:
        texts = self._texts
        get = dict(scope["headers"]).get
        return (
            f'{{"time": "{self._stamp}", "client": "{self._host(scope["client"])}", {request}, '
            f'"status": {status}, "bytes": {size}, "seconds": {seconds:.6f}, '
            f'"referer": "{texts[get(b"referer", b"")]}", '
            f'"user_agent": "{texts[get(b"user-agent", b"")]}", "id": "{texts[get(ID, b"")]}"}}\n'
        )


STYLES: dict[str, type[AccessLog]] = {"common": Common, "combined": Combined, "json": Json}
