"""The access log: one line a request, in the common log format with the time taken at its end.

Lines are gathered and written once a loop turn. What a client sent is escaped, so that it can
neither forge a line nor drive a terminal.
"""

import asyncio
import os
import time
from typing import Any

ESCAPES = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0x100))}
ESCAPES |= {ord('"'): '\\"', ord("\\"): "\\\\"}
MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]


class AccessLog:
    """Writes to a descriptor that others own. Never raises: a full disk must not cost a request."""

    def __init__(self, fd: int, loop: asyncio.AbstractEventLoop) -> None:
        self.fd = fd
        self.lost = 0
        self._loop = loop
        self._lines: list[str] = []
        self._second = -1
        self._stamp = ""

    def reopen(self, fd: int) -> None:
        """Write to another descriptor from now on. The old one is its owner's to close."""
        self.flush()
        self.fd = fd

    def add(self, scope: dict[str, Any], status: int, size: int, seconds: float) -> None:
        """One request's line."""
        client = scope["client"]
        host = client[0] if client and client[1] is not None else "-"
        target = scope["raw_path"].decode("latin-1")
        if scope["query_string"]:
            target += "?" + scope["query_string"].decode("latin-1")
        self.add_line(
            host, f"{scope['method']} {target} HTTP/{scope['http_version']}", status, size, seconds
        )

    def add_line(self, host: str, request: str, status: int, size: int, seconds: float) -> None:
        """A line for what need not have become a request."""
        now = int(time.time())
        if now != self._second:
            self._new_second(now)
        if not self._lines:
            self._loop.call_soon(self.flush)
        self._lines.append(
            f'{host} - - [{self._stamp}] "{request.translate(ESCAPES)}" {status} {size} '
            f"{seconds:.6f}\n"
        )

    def flush(self) -> None:
        """Write what was gathered. A pipe whose reader is gone, or a full disk, loses lines."""
        if not self._lines:
            return
        count, data = len(self._lines), "".join(self._lines).encode()
        self._lines.clear()
        done = 0
        try:
            while done < len(data):
                done += os.write(self.fd, data[done:])
        except OSError:
            self.lost += count
            if done and data[done - 1] != 10:
                self._end_torn_line()

    def _end_torn_line(self) -> None:
        try:
            os.write(self.fd, b"\n")
        except OSError:
            pass  # the next line begins inside the torn one; nothing better is left

    def _new_second(self, now: int) -> None:
        self._second = now
        t = time.localtime(now)
        zone = time.strftime("%z", t)
        self._stamp = (
            f"{t.tm_mday:02d}/{MONTHS[t.tm_mon - 1]}/{t.tm_year}:"
            f"{t.tm_hour:02d}:{t.tm_min:02d}:{t.tm_sec:02d} {zone}"
        )
