"""Log lines: one an event, forged by nobody, lost by no surprise."""

import errno
import json
import logging
import os
import resource
import signal
from collections.abc import Iterator
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
    set_up,
    show,
)

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


def test_a_full_disk_is_told_once_and_leaves_no_half_line(
    small_disk: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    handler = FdHandler(small_disk)
    for number in range(5):
        handler.emit(record(f"{number}" * 39))
    assert capfd.readouterr().err.count("cannot write to the log") == 1
    assert (tmp_path / "log").read_text() == "0" * 39 + "\n" + "1" * 39 + "\n"

    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    handler.emit(record("back"))
    lines = (tmp_path / "log").read_text().splitlines()
    assert lines[2:] == ["3 log lines are missing here", "back"]


def test_a_dead_pipe_costs_nothing_but_its_lines(capfd: pytest.CaptureFixture[str]) -> None:
    read, write = os.pipe()
    os.close(read)
    handler = FdHandler(write)
    handler.emit(record("nobody reads this"))
    handler.emit(record("nor this"))

    assert handler.lost == 2
    assert os.strerror(errno.EPIPE) in capfd.readouterr().err
    os.close(write)


def test_a_line_that_cannot_be_made_does_not_raise() -> None:
    class Nasty:
        def __str__(self) -> str:
            raise RuntimeError("no")

    read, write = os.pipe()
    made = logging.LogRecord("clusterd", logging.INFO, __file__, 1, "%s", (Nasty(),), None)
    FdHandler(write).emit(made)
    assert b"could not be formatted: RuntimeError" in os.read(read, 1000)
    os.close(read)
    os.close(write)


def test_reopened_it_writes_to_the_new_one_and_closes_the_old(tmp_path: Path) -> None:
    old = os.open(tmp_path / "old", os.O_WRONLY | os.O_CREAT)
    new = os.open(tmp_path / "new", os.O_WRONLY | os.O_CREAT)
    handler = FdHandler(old)

    handler.reopen(new)
    handler.emit(record("hello"))
    assert (tmp_path / "new").read_text() == "hello\n"
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(old)
    os.close(new)


def test_set_up_undoes_what_the_app_did_to_our_logger(tmp_path: Path) -> None:
    """A `dictConfig` disables the loggers that it does not name."""
    logger = logging.getLogger("clusterd")
    before = logger.handlers[:], logger.level, logger.propagate
    fd = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT)
    logger.disabled = True
    try:
        set_up(fd, "json", "warning", IDENTITY)
        logger.info("not this")
        logger.warning("but this")
    finally:
        logger.handlers[:], logger.level, logger.propagate = before
    assert json.loads((tmp_path / "log").read_text())["message"] == "but this"
    os.close(fd)
