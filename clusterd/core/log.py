"""Log lines: one line an event, with the same identity everywhere, for people or for machines.

The handler writes to a descriptor, since the log is opened by the master and passed to others. It
never raises: a full disk or a dead pipe must not cost a request. Fields beside the sentence go
into a record with `extra=fields(…)`.

Our loggers come from `get_logger`, not from `logging.getLogger`. They live in a manager of their
own, because an application's logging configuration must not silence the server: `dictConfig` and
`fileConfig` disable every logger that they do not name, and Alembic's env.py calls `fileConfig`.
"""

import datetime
import json
import logging
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

from clusterd.core.terminal import clean

LOGGER = "clusterd"
PATIENCE = 0.2  # seconds that a line waits for the reader of a full pipe
COLOURS = {logging.WARNING: ("\x1b[33m", "\x1b[0m"), logging.ERROR: ("\x1b[31m", "\x1b[0m")}
PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.:/,@+%")
# `logging.addLevelName` renames levels for the whole process, often to add colours.
LEVELS = {10: "DEBUG", 20: "INFO", 30: "WARNING", 40: "ERROR", 50: "CRITICAL"}


class Logger(logging.Logger):
    """A logger that the application's logging configuration cannot reach.

    Handlers that the application attaches to the loggers `clusterd` or `clusterd.*` get the records
    as well, so they can be forwarded; our own handler gets them in any case.
    """

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802  # logging's name
        """Return whether records of this level are logged. `logging.disable` has no effect."""
        return level >= self.getEffectiveLevel()

    def makeRecord(  # noqa: N802  # logging's name
        self,
        name: str,
        level: int,
        fn: str,
        lno: int,
        msg: object,
        args: Any,
        exc_info: Any,
        func: str | None = None,
        extra: Mapping[str, object] | None = None,
        sinfo: str | None = None,
    ) -> logging.LogRecord:
        """Make a plain record: an application's record factory may fail, or want other fields."""
        record = logging.LogRecord(name, level, fn, lno, msg, args, exc_info, func, sinfo)
        record.levelname = LEVELS.get(level, str(level))
        record.__dict__.update(extra or {})
        return record

    def callHandlers(self, record: logging.LogRecord) -> None:  # noqa: N802  # logging's name
        """Write the record, then offer it to the application's handlers."""
        super().callHandlers(record)
        for handler in _attached(record):
            try:
                handler.handle(record)
            except Exception:  # must not surface in the server: the record is written already
                pass


def _attached(record: logging.LogRecord) -> Iterator[logging.Handler]:
    """Yield the application's handlers of the loggers `clusterd.x` and `clusterd` that want it."""
    known, name = logging.root.manager.loggerDict, record.name
    while name:
        logger = known.get(name)
        if isinstance(logger, logging.Logger) and not logger.disabled:
            if record.levelno >= logger.level:
                for handler in logger.handlers:
                    if record.levelno >= handler.level:
                        yield handler
            if not logger.propagate:
                return
        name = name.rpartition(".")[0]


# The root above our loggers is the application's, but `set_up` ends the way there. It is not called
# in tests, where pytest listens at the root.
_manager = logging.Manager(logging.root)
_manager.loggerClass = Logger


def get_logger(name: str = LOGGER) -> logging.Logger:
    """Return the logger of that name: `clusterd`, or one below it."""
    return _manager.getLogger(name)


def fields(**named: Any) -> dict[str, Any]:
    """The `extra=` of a logging call: fields that follow the sentence."""
    return {"fields": named}


def block(text: str, **named: Any) -> dict[str, Any]:
    """The `extra=` of a logging call: lines that go below the sentence, as a traceback does."""
    return {"block": text, "fields": named}


def show(value: Any) -> str:
    """A field's value as `key=value` carries it: quoted only where it must be."""
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    if text and PLAIN.issuperset(text):
        return text
    return json.dumps(text, ensure_ascii=False) if isinstance(value, str) else clean(text)


class TextFormatter(logging.Formatter):
    """`2026-11-21 19:32:10.123 INFO worker=3 gen=2 pid=71 the sentence key=value`, tracebacks
    indented below."""

    def __init__(self, identity: dict[str, Any], colour: bool = False) -> None:
        super().__init__()
        self.identity = "".join(f"{key}={show(value)} " for key, value in identity.items())
        self.colour = colour

    def format(self, record: logging.LogRecord) -> str:
        when = datetime.datetime.fromtimestamp(record.created).isoformat(" ", "milliseconds")
        more = getattr(record, "fields", {})
        tail = "".join(f" {key}={clean(show(value))}" for key, value in more.items())
        on, off = COLOURS.get(record.levelno, ("", "")) if self.colour else ("", "")
        name = f"{on}{record.levelname}{off}"
        said = clean(record.getMessage()) + tail
        if spoken := getattr(record, "spoken", ""):  # a whole sentence instead, for people
            said = clean(spoken)
        line = f"{when} {name} {self.identity}{said}"
        below = (traceback_of(self, record).rstrip(), getattr(record, "after", ""))
        trace = "\n".join(filter(None, below))
        if trace:
            line += "".join(f"\n    {clean(part)}" for part in trace.splitlines())
        return line


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, the identity, message, the fields, traceback."""

    def __init__(self, identity: dict[str, Any]) -> None:
        super().__init__()
        self.identity = identity

    def format(self, record: logging.LogRecord) -> str:
        when = datetime.datetime.fromtimestamp(record.created, datetime.UTC)
        line: dict[str, Any] = {
            "time": when.isoformat(timespec="microseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            **self.identity,
            "message": record.getMessage(),
        }
        # A field never replaces what identifies the line.
        for key, value in getattr(record, "fields", {}).items():
            line[f"{key}_" if key in line else key] = value
        trace = traceback_of(self, record)
        if trace:
            line["traceback"] = trace
        return json.dumps(line, default=str, ensure_ascii=True)


def traceback_of(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    """The traceback, or other lines, that belong to a record, or ''."""
    if record.exc_info and not record.exc_text:
        record.exc_text = formatter.formatException(record.exc_info)
    return record.exc_text or str(getattr(record, "block", ""))


class Writer(Protocol):
    """Writes to a descriptor. `kernel.nonblocking` has the one that never blocks."""

    def write(self, data: bytes) -> int:
        """Return how many bytes were written. Raises OSError."""

    def fileno(self) -> int:
        """Return the descriptor that is written to."""

    def wait(self, seconds: float) -> bool:
        """Wait until there is room again; False: it took too long."""

    def close(self) -> None:
        """Close what the writer has opened."""


class FdHandler(logging.Handler):
    """Appends whole lines to a descriptor, and survives whatever happens to it.

    The first write that fails is told on standard error, once; lines are counted until one goes
    through again, and then the log says how many it lacks. A line that was cut short (a full disk
    takes what still fits) is taken back, or where the log is no file, ended by the next line.

    A pipe whose reader stands still must stop neither the master nor a worker: a line waits for
    `PATIENCE` at most, and those after it not at all until one goes through. `open_writer` is to
    make such a writer for a descriptor.
    """

    def __init__(self, fd: int, open_writer: Callable[[int], Writer]) -> None:
        super().__init__()
        self.fd = fd
        self.lost = 0
        self._torn = False
        self._open_writer = open_writer
        self._writer = open_writer(fd)

    def reopen(self, fd: int) -> None:
        """Write to another descriptor from now on; the old one is closed unless it is standard."""
        self.acquire()
        try:
            old, self.fd, self._torn = self.fd, fd, False
            writer, self._writer = self._writer, self._open_writer(fd)
            writer.close()
            if old > 2 and old != fd:
                os.close(old)
        except OSError:
            pass  # it was closed already: by an app that closes every descriptor, say
        finally:
            self.release()

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record)
        except Exception as error:  # an argument's own __str__ may raise anything
            line = f"a log line could not be formatted: {type(error).__name__}"
        prefix = "\n" if self._torn else ""
        if self.lost:
            prefix += f"{self.lost} log lines are missing here\n"
        try:
            self._write((prefix + line + "\n").encode("utf-8", "backslashreplace"))
        except OSError as error:
            self._lose(error)
        else:
            self.lost, self._torn = 0, False

    def _write(self, data: bytes) -> None:
        """All of it, or an OSError and the log as it was before."""
        done = 0
        try:
            while done < len(data):
                try:
                    done += self._writer.write(data[done:])
                except BlockingIOError:
                    if not self._writer.wait(0 if self.lost else PATIENCE):
                        raise
        except OSError:
            if done:
                self._take_back(done)
            raise

    def _take_back(self, cut: int) -> None:
        """Remove the piece of a line that a full disk still took."""
        try:
            fd = self._writer.fileno()
            end = os.lseek(fd, 0, os.SEEK_CUR)
            about = os.fstat(fd)
            if stat.S_ISREG(about.st_mode) and about.st_size == end:  # nobody wrote after us
                os.ftruncate(fd, end - cut)
                os.lseek(fd, end - cut, os.SEEK_SET)
                return
        except OSError:
            pass  # a pipe or a terminal
        self._torn = True

    def _lose(self, error: OSError) -> None:
        self.lost += 1
        if self.lost > 1 or self.fd == 2:
            return
        said = f"clusterd: cannot write to the log: {error.strerror or 'its reader stands still'}\n"
        stderr = self._open_writer(2)
        try:
            stderr.write(said.encode())
        except OSError:
            pass  # nobody is listening at all
        finally:
            stderr.close()


def is_json(style: str, fd: int) -> bool:
    """Return whether `--log-format` means JSON here: auto is text at a terminal, else JSON."""
    return style == "json" or (style == "auto" and not os.isatty(fd))


def formatter(style: str, fd: int, identity: dict[str, Any]) -> logging.Formatter:
    """Return the formatter of `--log-format`."""
    if is_json(style, fd):
        return JsonFormatter(identity)
    return TextFormatter(identity, colour=os.isatty(fd))


def set_up(
    fd: int,
    style: str,
    level: str,
    identity: dict[str, Any],
    open_writer: Callable[[int], Writer],
) -> FdHandler:
    """Let the `clusterd` logger write to this descriptor, and to nothing else."""
    handler = FdHandler(fd, open_writer)
    handler.setFormatter(formatter(style, fd, identity))
    logger = get_logger()
    for old in logger.handlers[:]:
        logger.removeHandler(old)
    logger.addHandler(handler)
    logger.setLevel(level.upper())
    logger.propagate = False
    return handler
