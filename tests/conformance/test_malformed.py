"""The tables of requests that are none, and of odd ones that are proper: asked of the engine in
this process, and of a real server over its socket, a connection each."""

import json
import logging
import socket
from collections.abc import Iterator
from typing import Any

import pytest
import uvloop

from tests.conformance.apps.whole import app
from tests.conformance.malformed import TABLES
from tests.conformance.malformed.chunks import CUT
from tests.conformance.malformed.framing import AFTER
from tests.conformance.malformed.legal import GOOD, Told
from tests.conformance.malformed.rows import Row
from tests.conformance.serving import Server, serving
from tests.unit.worker.fakes import Bench, statuses

LIMIT = 10  # seconds until waiting for an answer is a failure
OURS = {400, 408, 413, 414, 417, 431, 501, 505}


def judge(row: Row, answer: bytes, before: list[int]) -> str:
    """What is wrong with an answer, if anything is."""
    found = statuses(answer)
    wanted = [*before, row.status]
    fine = found == wanted and row.status in OURS
    # What came is not sent back, and nothing tells of our insides.
    fine = fine and answer.lower().count(b"connection: close") == 1 and b"Traceback" not in answer
    return "" if fine else f"{row.source}: wanted {wanted}, got {found}: {short(row.data)}"


def short(data: bytes) -> str:
    return repr(data if len(data) < 300 else data[:150] + b" ... " + data[-100:])


def told(answers: bytes) -> list[dict[str, Any]]:
    """What the app says it was told, answer by answer."""
    found = []
    while answers:
        head, _, rest = answers.partition(b"\r\n\r\n")
        size = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        found.append(json.loads(rest[:size]) if head.startswith(b"HTTP/1.1 200 ") else {})
        answers = rest[size:]
    return found


def wanted(one: Told) -> dict[str, Any]:
    raw = one.raw_path.decode()
    return {
        "method": one.method.decode(),
        "http_version": one.version,
        "path": one.path or raw,
        "raw_path": raw,
        "query_string": one.query.decode(),
        "headers": [
            [name.decode("latin-1"), value.decode("latin-1")] for name, value in one.headers
        ],
        "body": one.body.decode("latin-1"),
    }


# --- in this process


async def answer_of(data: bytes, *, leaving: bool = False) -> tuple[bytes, Bench]:
    bench = Bench(app)
    answer = await bench.talk(data)
    if leaving:
        bench.connection.eof_received()
    for _ in range(20):
        more = await bench.talk()
        if not more:
            break
        answer += more
    return answer, bench


async def wrong_rows(table: list[Row], before: list[int]) -> list[str]:
    wrong = []
    for row in table:
        answer, bench = await answer_of(row.data)
        fault = judge(row, answer, before)
        if not fault and not bench.connection.is_closing:
            fault = f"{row.source}: the connection stays open: {short(row.data)}"
        wrong.append(fault)
        bench.connection.connection_lost(None)
        await bench.settle()
        assert not bench.server.tasks, row
    return [fault for fault in wrong if fault]


@pytest.mark.parametrize("name", TABLES)
def test_what_is_malformed_is_refused(name: str) -> None:
    """One answer with the status of the row, and the end of the connection."""
    assert uvloop.run(wrong_rows(TABLES[name], [])) == []


def test_what_follows_a_request_is_judged_by_itself() -> None:
    """An answer to the first, and a refusal."""
    assert uvloop.run(wrong_rows(AFTER, [200])) == []


def test_a_cut_body_is_never_whole() -> None:
    """Whoever leaves in mid-body gets no answer of an app that wants all of it."""

    async def test() -> None:
        logging.disable(logging.CRITICAL)
        try:
            for data in CUT:
                answer, bench = await answer_of(data, leaving=True)
                assert 200 not in statuses(answer), data
                bench.connection.connection_lost(None)
                await bench.settle()
        finally:
            logging.disable(logging.NOTSET)

    uvloop.run(test())


@pytest.mark.parametrize("row", GOOD, ids=[row.source for row in GOOD])
def test_what_is_proper_is_understood(row: Any) -> None:
    """The app is told exactly what was meant, and the connection is kept."""
    answer, _ = uvloop.run(answer_of(row.data))
    assert told(answer) == [wanted(one) for one in row.told]


# --- for real


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("malformed"), "whole:app", workers=1) as running:
        yield running


def ask(server: Server, data: bytes, answers: int = 0, *, leave: bool = False) -> bytes:
    """All that a server has to say, or so many answers of it."""
    host, _, port = server.url.removeprefix("http://").rpartition(":")
    answer = b""
    with socket.create_connection((host, int(port)), timeout=LIMIT) as sock:
        try:
            sock.sendall(data)
            if leave:
                sock.shutdown(socket.SHUT_WR)
        except (BrokenPipeError, ConnectionResetError):
            pass  # it has heard enough
        while (not answers or len(told_safely(answer)) < answers) and (piece := sock.recv(65536)):
            answer += piece
    return answer


def told_safely(answer: bytes) -> list[dict[str, Any]]:
    try:
        return told(answer)
    except (IndexError, ValueError):
        return []  # not whole yet


@pytest.mark.parametrize("name", [*TABLES, "after"])
def test_a_server_refuses_them_and_closes(server: Server, name: str) -> None:
    """The same over a socket, up to its end; and the same worker serves on."""
    table, before = (AFTER, [200]) if name == "after" else (TABLES[name], [])
    wrong = [judge(row, ask(server, row.data), before) for row in table]
    assert [fault for fault in wrong if fault] == []


def test_a_server_takes_no_cut_body_for_whole(server: Server) -> None:
    for data in CUT:
        assert 200 not in statuses(ask(server, data, leave=True)), data


def test_a_server_understands_what_is_proper(server: Server) -> None:
    for row in GOOD:
        answer = ask(server, row.data, len(row.told))
        assert told(answer) == [wanted(one) for one in row.told], row.source


def test_the_worker_has_outlived_all_this(server: Server) -> None:
    """Nothing was logged as a bug, and no worker was replaced."""
    texts = [line["message"] for line in server.lines]
    assert not [text for text in texts if "exited" in text or "bug" in text], texts
