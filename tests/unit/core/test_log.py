"""Log lines: one an event, forged by nobody, lost by no surprise."""

import contextlib
import errno
import io
import json
import logging
import logging.config
import os
import resource
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from clusterd.core.log import (
    FdHandler,
    JsonFormatter,
    TextFormatter,
    block,
    fields,
    formatter,
    get_logger,
    set_up,
    show,
)
from clusterd.kernel.nonblocking import NonBlockingWriter, open_masters

IDENTITY = {"worker": 3, "gen": 2, "pid": 71}


def record(message: str, level: int = logging.INFO, **extra: Any) -> logging.LogRecord:
    made = logging.LogRecord("clusterd.test", level, __file__, 1, message, (), None)
    made.__dict__.update(extra)
    return made


def failed() -> Any:
    try:
        raise ValueError("bad\x1b[31m")
    except ValueError as error:
        return type(error), error, error.__traceback__


def test_text_has_the_identity_the_sentence_and_the_fields() -> None:
    line = TextFormatter(IDENTITY).format(record("hello", **fields(path="/a b", n=1, x="")))

    assert line[4] == line[7] == "-"
    assert line[23:] == ' INFO worker=3 gen=2 pid=71 hello path="/a b" n=1 x=""'


def test_nothing_forges_a_line_or_drives_a_terminal() -> None:
    line = TextFormatter({}).format(record("a\nb\x1b[2J\x9b", **fields(path="c\r\nd")))

    assert line.endswith(' a\\x0ab\\x1b[2J\\x9b path="c\\r\\nd"')


def test_tracebacks_go_below_in_text_and_inside_in_json() -> None:
    text = TextFormatter({}).format(record("oops", exc_info=failed()))
    assert all(line.startswith("    ") for line in text.splitlines()[1:])
    assert text.endswith("ValueError: bad\\x1b[31m")

    line = json.loads(JsonFormatter({}).format(record("oops", exc_info=failed())))
    assert line["traceback"].startswith("Traceback")
    stacks = json.loads(JsonFormatter({}).format(record("where", **block("one\ntwo"))))
    assert stacks["traceback"] == "one\ntwo"


def test_json_is_one_object_whose_identity_no_field_replaces() -> None:
    text = JsonFormatter(IDENTITY).format(record("hello\n", **fields(pid=9, why="so")))

    line = json.loads(text)
    assert "\n" not in text
    assert line.pop("time").endswith("Z")
    assert line == {
        "level": "info",
        **IDENTITY,
        "message": "hello\n",
        "pid_": 9,
        "why": "so",
    }


@pytest.mark.parametrize(
    ("value", "shown"),
    [("plain", "plain"), ("a b", '"a b"'), ("", '""'), (1, "1"), (None, "null"), ([1], "[1]")],
)
def test_values_are_quoted_only_where_they_must_be(value: object, shown: str) -> None:
    assert show(value) == shown


def test_auto_is_json_where_no_person_reads(tmp_path: Path) -> None:
    fd = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT)
    assert isinstance(formatter("auto", fd, {}), JsonFormatter)
    assert isinstance(formatter("text", fd, {}), TextFormatter)
    os.close(fd)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[int]:
    """A log that takes 100 bytes and not one more, cutting a line in two."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    old = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    fd = os.open(tmp_path / "log", os.O_RDWR | os.O_CREAT | os.O_APPEND)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    yield fd
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    signal.signal(signal.SIGXFSZ, old)
    os.close(fd)


@pytest.mark.parametrize("open_writer", [NonBlockingWriter, open_masters])
def test_a_full_disk_is_told_once_and_leaves_no_half_line(
    open_writer: Callable[[int], NonBlockingWriter],
    small_disk: int,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    handler = FdHandler(small_disk, open_writer)
    for number in range(5):
        handler.emit(record(f"{number}" * 39))
    assert capfd.readouterr().err.count("cannot write to the log") == 1
    assert (tmp_path / "log").read_text() == "0" * 39 + "\n" + "1" * 39 + "\n"

    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    handler.emit(record("back"))
    lines = (tmp_path / "log").read_text().splitlines()
    assert lines[2:] == ["3 log lines are missing here", "back"]
    handler._writer.close()


def test_a_dead_pipe_costs_nothing_but_its_lines(capfd: pytest.CaptureFixture[str]) -> None:
    read, write = os.pipe()
    os.close(read)
    handler = FdHandler(write, NonBlockingWriter)
    handler.emit(record("nobody reads this"))
    handler.emit(record("nor this"))

    assert handler.lost == 2
    assert os.strerror(errno.EPIPE) in capfd.readouterr().err
    os.close(write)


@pytest.mark.parametrize("kind", ["pipe", "socket"])
def test_a_reader_that_stands_still_stops_nobody(kind: str) -> None:
    """What does not fit is counted, and the log says so once there is room again."""
    if kind == "pipe":
        read, write = os.pipe()
    else:
        read, write = (end.detach() for end in socket.socketpair())
    assert os.get_blocking(write)
    handler = FdHandler(write, NonBlockingWriter)
    while handler.lost < 2:
        handler.emit(record("x" * 1000))
    os.set_blocking(read, False)
    with contextlib.suppress(BlockingIOError):
        while os.read(read, 1 << 20):
            pass
    handler.emit(record("z"))
    assert os.read(read, 4096).decode().lstrip().startswith("2 log lines are missing here")
    assert handler.lost == 0
    os.close(read)
    os.close(write)


def test_a_line_that_cannot_be_made_does_not_raise() -> None:
    class Nasty:
        def __str__(self) -> str:
            raise RuntimeError("no")

    read, write = os.pipe()
    made = logging.LogRecord("clusterd", logging.INFO, __file__, 1, "%s", (Nasty(),), None)
    FdHandler(write, NonBlockingWriter).emit(made)
    assert b"could not be formatted: RuntimeError" in os.read(read, 1000)
    os.close(read)
    os.close(write)


def test_reopened_it_writes_to_the_new_one_though_all_were_closed(tmp_path: Path) -> None:
    """By an application that closes every descriptor, say."""
    read, write = os.pipe()
    handler = FdHandler(write, NonBlockingWriter)
    assert isinstance(handler._writer, NonBlockingWriter)
    assert handler._writer._own is not None
    os.close(handler._writer._own)
    new = os.open(tmp_path / "new", os.O_WRONLY | os.O_CREAT)
    handler.reopen(new)
    handler.emit(record("here"))
    assert (tmp_path / "new").read_text() == "here\n"
    for fd in (read, new):  # the other one is closed
        os.close(fd)


def test_reopened_it_writes_to_the_new_one_and_closes_the_old(tmp_path: Path) -> None:
    old = os.open(tmp_path / "old", os.O_WRONLY | os.O_CREAT)
    new = os.open(tmp_path / "new", os.O_WRONLY | os.O_CREAT)
    handler = FdHandler(old, NonBlockingWriter)

    handler.reopen(new)
    handler.emit(record("hello"))
    assert (tmp_path / "new").read_text() == "hello\n"
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(old)
    os.close(new)


@pytest.fixture
def log_file(tmp_path: Path) -> Iterator[Path]:
    """A log that our loggers write to, as in a worker; logging is as it was afterwards."""
    ours, root = get_logger(), logging.root
    before = ours.handlers[:], ours.level, ours.propagate
    roots = root.handlers[:], root.level, root.manager.disable
    others = dict(root.manager.loggerDict)
    disabled = {name: each.disabled for name, each in others.items() if hasattr(each, "disabled")}
    fd = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    set_up(fd, "json", "info", IDENTITY, NonBlockingWriter)
    yield tmp_path / "log"
    os.close(fd)
    ours.handlers[:], (ours.level, ours.propagate) = before[0], before[1:]
    root.handlers[:], root.level, root.manager.disable = roots
    root.manager.loggerDict.clear()
    root.manager.loggerDict.update(others)
    for name, was in disabled.items():
        logging.getLogger(name).disabled = was
    logging.setLogRecordFactory(logging.LogRecord)
    logging.addLevelName(logging.ERROR, "ERROR")


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def by_dict() -> None:
    logging.config.dictConfig({"version": 1, "root": {"level": "CRITICAL"}})


def by_dict_that_names_us() -> None:
    quiet: dict[str, Any] = {"level": "CRITICAL", "handlers": [], "propagate": False}
    loggers = dict.fromkeys(("clusterd", "clusterd.app"), quiet)
    logging.config.dictConfig({"version": 1, "loggers": loggers})


def by_file() -> None:
    """As Alembic's env.py has it."""
    text = (
        "[loggers]\nkeys = root\n[handlers]\nkeys =\n[formatters]\nkeys =\n"
        "[logger_root]\nlevel = CRITICAL\nhandlers =\n"
    )
    logging.config.fileConfig(io.StringIO(text))


def by_basic_config() -> None:
    logging.basicConfig(handlers=[logging.NullHandler()], level=logging.CRITICAL, force=True)


def by_disable() -> None:
    logging.disable(logging.CRITICAL)


def by_intercepting() -> None:
    """As recipes for loguru and structlog have it: take every logger's handlers away."""
    logging.root.handlers = [logging.NullHandler()]
    for name in list(logging.root.manager.loggerDict):
        logging.getLogger(name).handlers = []
        logging.getLogger(name).propagate = True
    for name in ("clusterd", "clusterd.app"):
        logging.getLogger(name).handlers = []
        logging.getLogger(name).disabled = True


def by_record_factory() -> None:
    def make(*args: Any, **named: Any) -> logging.LogRecord:
        raise LookupError("no request is active")

    logging.setLogRecordFactory(make)


def by_shutdown() -> None:
    logging.shutdown()


@pytest.mark.parametrize(
    "configure",
    [
        by_dict,
        by_dict_that_names_us,
        by_file,
        by_basic_config,
        by_disable,
        by_intercepting,
        by_record_factory,
        by_shutdown,
    ],
)
@pytest.mark.parametrize("name", ["clusterd", "clusterd.app"])
def test_no_configuration_of_the_application_silences_our_loggers(
    name: str, configure: Callable[[], None], log_file: Path
) -> None:
    """Reports from the field, E: a 500 without a word."""
    configure()
    get_logger(name).error("the app failed: %s", "RuntimeError", exc_info=failed())

    (line,) = lines_of(log_file)
    assert (line["level"], line["message"]) == ("error", "the app failed: RuntimeError")
    assert "ValueError: bad" in line["traceback"]


def test_renamed_levels_are_not_in_our_log(log_file: Path) -> None:
    logging.addLevelName(logging.ERROR, "\x1b[31mERROR\x1b[0m")
    get_logger().error("oops")

    assert lines_of(log_file)[0]["level"] == "error"


def test_the_level_is_that_of_set_up(log_file: Path) -> None:
    get_logger("clusterd.app").debug("not this")
    get_logger("clusterd.app").info("but this")

    assert [line["message"] for line in lines_of(log_file)] == ["but this"]


class Heard(logging.Handler):
    """A handler of the application."""

    def __init__(self, level: int = logging.NOTSET) -> None:
        super().__init__(level)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


class Broken(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        raise OSError("the collector is away")


def test_handlers_that_the_application_attaches_get_the_records_too(log_file: Path) -> None:
    every, grave, of_app, root = Heard(), Heard(logging.ERROR), Heard(), Heard()
    for handler in (Broken(), every, grave):
        logging.getLogger("clusterd").addHandler(handler)
    logging.getLogger("clusterd.app").addHandler(of_app)
    logging.root.addHandler(root)

    get_logger("clusterd.app").warning("slow")
    get_logger("clusterd.worker").error("oops")

    assert every.messages == ["slow", "oops"]
    assert grave.messages == ["oops"]
    assert of_app.messages == ["slow"]
    assert root.messages == [], "an application that asks for nothing would log everything twice"
    assert [line["message"] for line in lines_of(log_file)] == ["slow", "oops"]


def test_levels_of_the_application_are_for_its_handlers_alone(log_file: Path) -> None:
    heard = Heard()
    logging.getLogger("clusterd").addHandler(heard)
    logging.getLogger("clusterd").setLevel(logging.ERROR)
    get_logger().warning("slow")

    assert heard.messages == []
    assert [line["message"] for line in lines_of(log_file)] == ["slow"]


def test_set_up_again_replaces_what_was_there(log_file: Path, tmp_path: Path) -> None:
    """A worker has another identity than the zygote that it was forked from."""
    fd = os.open(tmp_path / "other", os.O_WRONLY | os.O_CREAT)
    set_up(fd, "json", "warning", {"worker": 4}, NonBlockingWriter)
    get_logger().info("not this")
    get_logger().warning("but this")
    os.close(fd)

    assert log_file.read_text() == ""
    (line,) = lines_of(tmp_path / "other")
    assert (line["worker"], line["message"]) == (4, "but this")
