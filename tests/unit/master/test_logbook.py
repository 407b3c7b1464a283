"""Lines of the log that are sentences for people, and objects for machines."""

import contextlib
import json
import logging
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from clusterd.config.serving import TlsSettings
from clusterd.config.settings import Config
from clusterd.core.events import Event, Kind
from clusterd.core.log import JsonFormatter, TextFormatter, fields, get_logger
from clusterd.master import absorb, logbook


@pytest.mark.parametrize(
    ("told", "line"),
    [
        (
            {"urls": ["http://127.0.0.1:8000"], "workers": 4, "seconds": 0.912},
            "ready on http://127.0.0.1:8000 in 0.9 s, 4 workers",
        ),
        ({"workers": 1, "seconds": 0.04}, "ready in 0.0 s, 1 worker"),
        (
            {"urls": [f"http://[::1]:{n}" for n in range(6)], "workers": 1, "seconds": 2.0},
            "ready on http://[::1]:0, http://[::1]:1, http://[::1]:2, http://[::1]:3 and 2 more "
            "in 2.0 s, 1 worker",
        ),
    ],
)
def test_the_end_of_a_start_is_a_sentence(told: dict[str, Any], line: str) -> None:
    assert logbook.ready(Event(1, 0.0, Kind.READY, told)) == line


def test_people_read_the_sentence_and_machines_the_fields() -> None:
    record = logging.LogRecord("clusterd", logging.INFO, "", 1, "ready", (), None)
    record.__dict__.update(fields(workers=4), spoken="ready on http://[::1]:80, 4 workers")
    assert TextFormatter({}).format(record).endswith(" INFO ready on http://[::1]:80, 4 workers")
    line = json.loads(JsonFormatter({}).format(record))
    assert (line["message"], line["workers"]) == ("ready", 4)


def test_urls_say_how_each_address_is_spoken_to() -> None:
    def group(*names: str, cert: tuple[str, ...] = ()) -> Any:
        config = replace(Config(), tls=TlsSettings(tls_cert=cert))
        return SimpleNamespace(sockets=[SimpleNamespace(name=n) for n in names], config=config)

    names = ("127.0.0.1:80#0", "127.0.0.1:80#1", "[::1]:81,tls=off", "unix:/run/a")
    cluster: Any = SimpleNamespace(wanted=[group(*names), group("1.2.3.4:5")])
    found = ["http://127.0.0.1:80", "http://[::1]:81", "unix:/run/a", "http://1.2.3.4:5"]
    assert absorb.served_at(cluster) == found
    cluster.wanted = [group(*names, cert=("a.pem",))]
    assert absorb.served_at(cluster) == ["https://127.0.0.1:80", *found[1:3]]


@contextlib.contextmanager
def logged() -> Iterator[list[logging.LogRecord]]:
    """What is logged meanwhile, at INFO and above."""
    lines: list[logging.LogRecord] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record)

    handler = Handler()
    logger = get_logger()
    logger.addHandler(handler)
    level, logger.level = logger.level, logging.INFO
    try:
        yield lines
    finally:
        logger.removeHandler(handler)
        logger.level = level


def test_a_start_that_failed_is_said_once_and_the_remedy_last() -> None:
    """At debug: what is said again by `gave up`, and the machinery that follows it."""
    with logged() as lines:
        book = logbook.Logbook()
        why = {"reason": "import failed: no", "traceback": "Traceback:\n  here\n", "remedy": "Mend"}
        book(Event(1, 0.0, Kind.ZYGOTE_FAILED, {**why, "final": True}))
        book(Event(2, 0.0, Kind.GAVE_UP, why))
        book(Event(3, 0.0, Kind.STOPPING, {}))
        book(Event(4, 0.0, Kind.STOPPED, {"code": 3}))
    (record,) = lines
    said = TextFormatter({}).format(record).splitlines()
    assert said[0].endswith(" ERROR gave up: import failed: no")
    assert said[1:] == ["    Traceback:", "      here", "    Mend"]
    told = json.loads(JsonFormatter({}).format(record))
    assert (told["message"], told["remedy"]) == ("gave up", "Mend")
    assert told["traceback"] == "Traceback:\n  here\n"


def test_the_end_of_a_start_is_logged_as_its_sentence() -> None:
    with logged() as lines:
        told = {"urls": ["http://127.0.0.1:8000"], "workers": 4, "seconds": 0.9}
        logbook.Logbook()(Event(1, 0.0, Kind.READY, told))
    (record,) = lines
    said = TextFormatter({}).format(record)
    assert said.endswith(" INFO ready on http://127.0.0.1:8000 in 0.9 s, 4 workers")


@pytest.mark.parametrize("dev", [True, False])
def test_a_reload_is_one_line_where_a_person_develops(dev: bool) -> None:
    """But what goes wrong in it is logged in any case."""
    of_second = {"generation": 2, "slot": 0, "pid": 7}
    with logged() as lines:
        book = logbook.Logbook(dev)
        book(Event(1, 10.0, Kind.ROLLOUT_STARTED, {"generation": 2, "previous": 1}))
        for kind in (Kind.ZYGOTE_SPAWNED, Kind.SPAWNED, Kind.READIED, Kind.RETIRED, Kind.EXITED):
            book(Event(2, 10.5, kind, of_second))
        book(Event(3, 11.0, Kind.EXITED, {**of_second, "fault": True}))
        book(Event(4, 11.5, Kind.ROLLOUT_FINISHED, {"generation": 2, "previous": 1}))
    said = [TextFormatter({}).format(line) for line in lines]
    if dev:
        fault, done = said
        assert " ERROR exited" in fault
        assert done.endswith(" INFO reloaded in 1.5 s, generation 2 serves")
    else:
        assert len(said) == 8
        assert " INFO rollout finished" in said[-1]
