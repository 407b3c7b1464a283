"""The workloads' apps do what the table says, alike over ASGI and WSGI."""

import asyncio
import importlib
import itertools
import json
import sqlite3
import sys
import threading
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from benchmarks import workloads
from benchmarks.servers import APPS

PATHS = ["/", "/items/17", "/items/4000", "/page", "/wait", "/compute", "/block", "/nowhere"]


@pytest.fixture(autouse=True)
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The apps, importable as the servers import them, on a shop of their own."""
    monkeypatch.syspath_prepend(str(APPS))
    monkeypatch.setenv("WORK_SHOP", str(tmp_path / "shop"))
    tasks = importlib.import_module("tasks")
    yield tasks.SHOP
    if hasattr(tasks._kept, "shop"):
        tasks._kept.shop.close()
    for name in ("tasks", "work", "work_wsgi"):
        sys.modules.pop(name, None)


def by_asgi(path: str, *pieces: bytes) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body; the request's body comes in these pieces."""
    app = importlib.import_module("work").app
    bodies = pieces or (b"",)
    received = iter(
        {"type": "http.request", "body": piece, "more_body": number < len(bodies)}
        for number, piece in enumerate(bodies, 1)
    )
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return next(received)

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    asyncio.run(app({"type": "http", "path": path}, receive, send))
    headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], headers, b"".join(message["body"] for message in sent[1:])


def by_wsgi(path: str, *pieces: bytes) -> tuple[int, dict[str, str], bytes]:
    """The same of the WSGI app."""
    app = importlib.import_module("work_wsgi").app
    begun: list[Any] = []
    environ = {"PATH_INFO": path, "wsgi.input": BytesIO(b"".join(pieces))}
    body = b"".join(app(environ, lambda *words: begun.extend(words)))
    return int(begun[0].split()[0]), dict(begun[1]), body


@pytest.mark.parametrize("path", PATHS)
def test_both_interfaces_answer_alike(path: str) -> None:
    """What differs between them in a benchmark is the interface, not the work."""
    status, headers, body = by_asgi(path)
    assert (status, headers, body) == by_wsgi(path)
    assert status == (404 if path == "/nowhere" else 200)
    assert headers["content-length"] == str(len(body))


def test_an_item_comes_from_the_file_with_its_reviews() -> None:
    status, headers, body = by_asgi("/items/17")
    item = json.loads(body)
    assert (status, headers["content-type"]) == (200, "application/json")
    assert (item["id"], item["name"], len(item["reviews"])) == (17, "item 17", 8)
    assert by_asgi("/items/4000")[2] == b"null"


def test_the_page_has_its_layout_and_its_rows_and_escapes() -> None:
    page = by_asgi("/page")[2].decode()
    assert page.startswith("<!doctype html>")
    assert page.count("<tr ") == 40
    assert "Fox &amp; Sons" in page
    assert "Nuts &amp; Bolts, Box 40" in page


def test_an_upload_is_taken_whole_and_a_stream_sent_whole() -> None:
    pieces = (b"x" * 100_000, b"y" * 50_000, b"")
    assert by_asgi("/upload", *pieces)[2] == by_wsgi("/upload", *pieces)[2] == b"150000"
    _, headers, body = by_asgi("/stream")
    assert "content-length" not in headers
    assert body == by_wsgi("/stream")[2]
    assert len(body) == 100 * 1024


def test_each_thread_has_one_connection_and_cannot_write(shop: Path) -> None:
    """One a worker, then, where one thread serves; made on first use, so after the fork."""
    tasks = importlib.import_module("tasks")
    assert not hasattr(tasks._kept, "shop")
    mine = tasks.connected()
    assert tasks.connected() is mine
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        mine.execute("delete from item")
    others = []

    def other() -> None:
        others.append(tasks.connected() is mine)
        tasks._kept.shop.close()

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert others == [False]
    assert [path.name for path in shop.parent.iterdir()] == ["shop"]


def test_a_computation_is_the_same_work_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not "until 5 ms are over": who is slowed down must be seen to take longer."""
    tasks = importlib.import_module("tasks")
    first = tasks.compute()
    assert tasks.compute() == first
    monkeypatch.setattr(tasks, "SPINS", tasks.SPINS + 1)
    assert tasks.compute() != first


def test_a_websocket_is_an_echo() -> None:
    app = importlib.import_module("work").app
    messages: list[dict[str, Any]] = [
        {"type": "websocket.connect"},
        {"type": "websocket.receive", "text": "a", "bytes": None},
        {"type": "websocket.receive", "bytes": b"b"},
        {"type": "websocket.disconnect", "code": 1000},
    ]
    received = iter(messages)
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return next(received)

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    asyncio.run(app({"type": "websocket", "path": "/"}, receive, send))
    assert sent == [
        {"type": "websocket.accept"},
        {"type": "websocket.send", "text": "a"},
        {"type": "websocket.send", "bytes": b"b"},
    ]


@pytest.mark.parametrize("row", workloads.TABLE, ids=lambda row: row.name)
def test_a_workload_asks_for_what_the_apps_have(row: workloads.Workload, tmp_path: Path) -> None:
    """A path that is misspelt would measure how fast 404 is."""
    words = workloads.options(row, tmp_path, 2)
    assert words[:2] == ["--connections", str(row.each * 2)]
    asked = [after for word, after in itertools.pairwise(words) if word == "--path"]
    for line in row.files.get("mixed", b"").decode().splitlines():
        asked.append(line.split()[1])
    for path in asked or ["/"]:
        assert by_asgi(path)[0] == 200
        assert not row.wsgi or by_wsgi(path)[0] == 200
    for word in words:
        if word.startswith(str(tmp_path)):
            assert Path(word).read_bytes() in row.files.values()


def test_the_table_has_what_was_promised() -> None:
    names = [row.name for row in workloads.TABLE]
    assert len(set(names)) == len(names)
    assert {"hello", "json-sqlite", "template", "await20", "cpu5", "mixed"} <= set(names)
    assert {"upload", "stream", "websocket"} <= set(names)
    judged = {row.name: (row.judged, row.target) for row in workloads.TABLE if row.judged}
    assert set(judged) == {"hello", "hello-rate", "await20", "cpu5"}


@pytest.mark.parametrize(
    ("cores", "counts"),
    [
        (1, (1,)),
        (2, (1, 2)),
        (3, (1, 2, 3)),
        (4, (1, 2, 3)),
        (16, (1, 2, 3, 4, 6, 8, 12)),
    ],
)
def test_there_are_never_more_workers_than_cores(cores: int, counts: tuple[int, ...]) -> None:
    """From four cores on a quarter of them is the generator's."""
    assert workloads.worker_counts(cores) == counts


def test_five_milliseconds_are_measured_where_servers_run() -> None:
    assert workloads.spins(sys.executable, APPS) > 1000
