"""What the program prints, a line at a time, into the log.

The log sets the pace. While it takes lines the program waits in its own `write` when it prints
faster than we pass on, as in any pipe: nothing is lost, and neither memory nor disk is filled by
more than it prints. A log that takes nothing for a second (a terminal that was stopped, a reader
that hangs) must not stop the program for ever: then lines are dropped, and counted.
"""

import logging
import os
import re
import select
import socket
import stat
from collections import deque
from collections.abc import Callable
from typing import Any

from clusterd.core import log
from clusterd.core.terminal import clean
from clusterd.keeper.turns import Turns

PIECE = 16 * 1024  # bytes read at once, and of the longest line: a longer one comes in pieces
PATIENCE = 1.0  # seconds that the log may take nothing until lines are dropped
ATOMIC = 4096  # PIPE_BUF: that much goes into a pipe whole or not at all (pipe(7))
REMEMBERED = 20  # lines that explain an end
REMEMBERED_SIZE = 300  # characters of each
HUES = (36, 33, 32, 35, 34, 96, 93, 92, 95, 94)  # SGR foreground colours, a group each
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


class Lines:
    """The bytes of one stream, cut into lines."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """Lines that are complete now."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        found = []
        for line in lines:
            found += [line[at : at + PIECE] for at in range(0, max(1, len(line)), PIECE)]
        while len(self._rest) >= PIECE:
            found.append(self._rest[:PIECE])
            self._rest = self._rest[PIECE:]
        return found

    def end(self) -> list[bytes]:
        """What was left without an end of line."""
        rest, self._rest = self._rest, b""
        return [rest] if rest else []


class Outlet:
    """Writes to the log's descriptor and never waits for it.

    `changed` is called when it gets stuck, and when it no longer is.
    """

    def __init__(self, fd: int, changed: Callable[[], None] = lambda: None) -> None:
        self.changed = changed
        self.pending = b""
        self.lost = 0
        self.dropping = False
        self._own = self._socket = None
        self._open(fd)

    _own: int | None
    _socket: socket.socket | None

    def _open(self, fd: int) -> None:
        """Whether writing blocks belongs to the open file, which others share: have one of ours."""
        self.fd, self._own, self._socket = fd, None, None
        mode = os.fstat(fd).st_mode
        self.is_file = stat.S_ISREG(mode)
        if stat.S_ISSOCK(mode):
            self._socket = socket.socket(fileno=os.dup(fd))
        elif not self.is_file:
            flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
            try:
                self.fd = self._own = os.open(f"/proc/self/fd/{fd}", flags)
            except OSError:
                pass  # not ours to open (a terminal after a change of user): then it may block

    def reopen(self, fd: int) -> None:
        """Write to another descriptor from now on."""
        own, old = self._own, self.fd
        self.close()
        self._open(fd)
        if old > 2 and own is None and old != fd:
            os.close(old)

    def close(self) -> None:
        """Let go of what is ours alone."""
        if self._own is not None:
            os.close(self._own)
        if self._socket is not None:
            self._socket.close()

    def fileno(self) -> int:
        return self.fd

    def put(self, text: str) -> None:
        """Write one line, or keep it until the log takes it again, or drop it."""
        if self.dropping:
            self.lost += 1
            return
        if self.lost and not self.pending:
            text, self.lost = f"{self.lost} lines of output are missing here\n{text}", 0
        data = text.encode("utf-8", "backslashreplace") + b"\n"
        if self.pending:
            self.pending += data
        elif rest := self._write(data):
            self.pending = rest
            self.changed()

    def resume(self) -> None:
        """The log can be written to again, it seems."""
        self.pending = self._write(self.pending)
        if not self.pending:
            self.dropping = False
            self.changed()

    def flush(self, seconds: float) -> None:
        """Wait so long for the log to take what is left: these are the last lines."""
        poll = select.poll()
        poll.register(self.fd, select.POLLOUT)
        while self.pending and poll.poll(seconds * 1000):
            self.pending = self._write(self.pending)

    def give_up(self) -> None:
        """It was stuck for too long."""
        self.dropping = True
        self.changed()

    def _write(self, data: bytes) -> bytes:
        """What was not written."""
        while data:
            piece = data if self.is_file or len(data) <= ATOMIC else _whole_lines(data)
            try:
                if self._socket is not None:
                    flags = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL
                    done = self._socket.send(piece, flags)
                else:
                    done = os.write(self.fd, piece)
            except BlockingIOError:
                return data
            except OSError:  # full, or nobody reads it any more: what we say is lost
                self.lost += data.count(b"\n")
                return b""
            data = data[done:]
        return b""


def _whole_lines(data: bytes) -> bytes:
    """As many lines as go into a pipe at once, or the start of one that does not."""
    end = data.rfind(b"\n", 0, ATOMIC) + 1
    return data[: end or ATOMIC]


class LogHandler(logging.Handler):
    """Our own log lines go the same way, so that they wait for nothing either."""

    def __init__(self, outlet: Outlet) -> None:
        super().__init__()
        self.outlet = outlet

    def emit(self, record: logging.LogRecord) -> None:
        self.outlet.put(self.format(record))


class Output:
    """Standard output and error of the program, from the pipes to the log."""

    def __init__(
        self,
        turns: Turns,
        outlet: Outlet,
        form: Callable[[str, str], str],
        heard: Callable[[str], None],
    ) -> None:
        self.turns = turns
        self.outlet = outlet
        self.form = form  # (stream, text) → the line of the log
        self.heard = heard
        self.last: deque[str] = deque(maxlen=REMEMBERED)
        self._pipes: dict[int, tuple[str, Lines]] = {}
        self._reading = True

    def open(self) -> tuple[int, int]:
        """The ends for the program; close them once it runs."""
        ends = []
        for stream in ("stdout", "stderr"):
            read, write = os.pipe()
            os.set_blocking(read, False)
            self._pipes[read] = stream, Lines()
            if self._reading:
                self.turns.on(read, self._readable(read))
            ends.append(write)
        return ends[0], ends[1]

    def _readable(self, fd: int) -> Callable[[], object]:
        return lambda: self._read(fd)

    def read_on(self, wanted: bool) -> None:
        """Whether to take more from the program."""
        if wanted == self._reading:
            return
        self._reading = wanted
        for fd in self._pipes:
            if wanted:
                self.turns.on(fd, self._readable(fd))
            else:
                self.turns.off(fd)

    def _read(self, fd: int) -> int:
        """Take what is there, at most one piece; how much that was."""
        stream, lines = self._pipes[fd]
        try:
            data = os.read(fd, PIECE)
        except BlockingIOError:
            return 0
        for line in lines.feed(data) if data else lines.end():
            self._say(stream, line)
        if not data:
            self._close(fd)
        return len(data)

    def _say(self, stream: str, line: bytes) -> None:
        text = line.decode("utf-8", "backslashreplace").rstrip("\r")
        self.last.append(clean(text)[:REMEMBERED_SIZE])
        self.outlet.put(self.form(stream, text))
        self.heard(text)

    def _close(self, fd: int) -> None:
        if self._reading:
            self.turns.off(fd)
        del self._pipes[fd]
        os.close(fd)

    def drain(self) -> None:
        """Pass on what is in the pipes; whoever still has their other end is not waited for."""
        for fd in list(self._pipes):
            left = 64  # pieces: a pipe's buffer has up to 1 MiB
            while fd in self._pipes and self._read(fd) and left:
                left -= 1
        for stream, lines in list(self._pipes.values()):
            for line in lines.end():
                self._say(stream, line)

    def close(self) -> None:
        for fd in list(self._pipes):
            self._close(fd)


def line_form(
    style: str, fd: int, identity: dict[str, Any], name: str, hue: int
) -> Callable[[str, str], str]:
    """How a line of the program is written: after its name at a terminal, elsewhere as an event."""
    if style != "json" and os.isatty(fd):
        prefix = f"\x1b[{HUES[hue % len(HUES)]}m{name} |\x1b[0m "
        return lambda _stream, text: prefix + clean_but_colour(text)
    formatter = log.formatter(style, fd, identity)

    def form(stream: str, text: str) -> str:
        record = logging.LogRecord(log.LOGGER, logging.INFO, "", 0, text, None, None)
        record.fields = {"stream": stream}
        return formatter.format(record)

    return form


def clean_but_colour(text: str) -> str:
    """The text, harmless to a terminal; its colours stay, and tabs."""
    text = text.expandtabs()
    kept = COLOUR.findall(text)
    if not kept:
        return clean(text)
    parts = [clean(part) for part in COLOUR.split(text)]
    return "".join(a + b for a, b in zip(parts, [*kept, "\x1b[0m"], strict=True))
