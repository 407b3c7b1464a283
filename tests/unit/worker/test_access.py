"""The access log: what a line tells, that nobody forges one, and that nobody is waited for."""

import dataclasses
import datetime
import fcntl
import json
import os
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from clusterd.app.scope import REQUEST_ID
from clusterd.config.serving import ProxySettings
from clusterd.config.settings import Config, LogSettings
from clusterd.kernel.nonblocking import PIPE
from clusterd.worker.access import CUT, MOST, STYLES, AccessLog
from clusterd.worker.outlet import Outlet
from tests.unit.worker.fakes import Bench, get, hello, run

COMMON = re.compile(
    r'([0-9a-f.:-]+) - - \[\d\d/[A-Z][a-z]{2}/\d{4}(?::\d\d){3} [+-]\d{4}\] "((?:[^"\\]|\\.)*)" '
    r"(\d{3}) (\d+) (\d+) ([\w.-]+)"
)
COMBINED = re.compile(
    r'(\S+) - - \[[^]]+\] "((?:[^"\\]|\\.)*)" (\d{3}) (\d+) "((?:[^"\\]|\\.)*)" '
    r'"((?:[^"\\]|\\.)*)" (\d+) ([\w.-]+)'
)


class Logged(Bench):
    """A bench with the access log on."""

    def __init__(self, path: Path, style: str = "common", app: Any = hello) -> None:
        self.path = path / "log"
        self.fd = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        config = dataclasses.replace(
            Config(),
            log=LogSettings(access_log=True, access_log_format=style),
            proxy=ProxySettings(trusted_proxies=("192.0.2.1",)),
        )
        super().__init__(app, config=config)
        self.server.set_access_log(self.fd, {"worker": 3, "gen": 2})
        self.server.dress("asgi")
        self.transport, self.connection = self.connect()

    def lines(self) -> list[str]:
        assert self.server.access is not None
        self.server.access.flush()
        return self.path.read_text().splitlines()


def logged(path: Path, *requests: bytes, style: str = "common", app: Any = hello) -> list[str]:
    """The lines that these requests leave, each on a connection of its own."""
    found: list[str] = []

    async def test() -> None:
        bench = Logged(path, style, app)
        for request in requests:
            bench.transport, bench.connection = bench.connect()
            await bench.talk(request)
        found.extend(bench.lines())
        os.close(bench.fd)

    run(test)
    return found


def test_a_common_line(tmp_path: Path) -> None:
    (line,) = logged(tmp_path, get("/a%20b?c=d&e"))
    match = COMMON.fullmatch(line)
    assert match is not None, line
    host, request, status, size, _, name = match.groups()
    assert (host, request, status) == ("192.0.2.1", "GET /a%20b?c=d&e HTTP/1.1", "200")
    assert int(size) > 5
    assert len(name) >= 16


@pytest.mark.parametrize("style", ["common", "combined", "json"])
def test_a_line_has_the_microseconds_that_a_request_took(tmp_path: Path, style: str) -> None:
    """The short way, which is for usual requests, and the long one."""

    async def test() -> None:
        bench = Logged(tmp_path, style)
        usual = {
            "client": ("192.0.2.1", 7),
            "method": "GET",
            "raw_path": b"/",
            "query_string": b"",
            "http_version": "1.1",
            "headers": [(REQUEST_ID, b"a")],
        }
        assert bench.server.access is not None
        for scope in (usual, {"method": "GET"}):
            for _ in range(2):  # the second time, the client is known
                bench.server.access.add(scope, 200, 5, 10.0)
        lines = bench.lines()
        os.close(bench.fd)
        assert len(lines) == 4
        assert [line for line in lines if not re.search(r"\b10000000\b", line)] == []

    run(test)


def test_lines_are_written_with_the_counters(tmp_path: Path) -> None:
    async def test() -> None:
        bench = Logged(tmp_path)
        await bench.settle()
        bench.now += 1
        await bench.talk(get("/1"))
        assert bench.path.read_text().count("\n") == 1  # after a quiet time at once
        for number in range(2, 9):
            await bench.talk(get(f"/{number}"))
        assert bench.path.read_text().count("\n") == 1
        bench.server.publish()
        assert bench.path.read_text().count("\n") == 8
        os.close(bench.fd)

    run(test)


def test_a_combined_line(tmp_path: Path) -> None:
    headers = ('Referer: http://a/"x\\', "User-Agent: curl/8 (\xe9)")
    request = "\r\n".join(["GET / HTTP/1.1", "Host: a", *headers, "", ""]).encode("latin-1")
    first, second = logged(tmp_path, request, get("/", version="1.0"), style="combined")
    match = COMBINED.fullmatch(first)
    assert match is not None, first
    assert match[5] == 'http://a/\\"x\\\\'
    assert match[6] == "curl/8 (\\xe9)"
    match = COMBINED.fullmatch(second)
    assert match is not None, second
    assert match.group(2, 5, 6) == ("GET / HTTP/1.0", "-", "-")


def test_a_json_line(tmp_path: Path) -> None:
    request = get("/a?b=\\", 'Referer: "\\', "User-Agent: \x85\u0142".encode().decode("latin-1"))
    lines = [json.loads(line) for line in logged(tmp_path, request, b"bad\r\n\r\n", style="json")]
    assert (
        lines[0].items()
        >= {
            "client": "192.0.2.1",
            "method": "GET",
            "target": "/a?b=\\",
            "http": "1.1",
            "status": 200,
            "referer": '"\\',
            "level": "info",
            "message": "request",
            "worker": 3,
            "gen": 2,
        }.items()
    )
    assert lines[0]["user_agent"].isprintable() or lines[0]["user_agent"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", lines[0]["time"])
    assert (
        lines[1].items() >= {"target": "bad", "status": 400, "method": "", "request_id": ""}.items()
    )
    assert set(lines[0]) == set(lines[1])


def test_json_lines_are_the_same_the_short_way_and_the_long_one(tmp_path: Path) -> None:
    """The second request of a client is written from pieces that are there already."""

    async def test() -> None:
        bench = Logged(tmp_path, "json")
        plain = get("/a?b", "User-Agent: curl")
        for request in (plain, plain, get("/a", "User-Agent: x", "Referer: r"), plain):
            await bench.talk(request)
        assert bench.server.access is not None
        bench.server.access.add({"method": "GET"}, 200, 5, 0.00002)  # an app's own scope
        lines = [json.loads(line) for line in bench.lines()]
        os.close(bench.fd)
        keys = {tuple(line) for line in lines}
        assert len(keys) == 1, keys
        ids = [line.pop("request_id") for line in lines]
        assert len(set(ids[:4])) == 4
        assert ids[4] == ""
        for line in lines:
            stamp = datetime.datetime.fromisoformat(line.pop("time"))
            assert abs(stamp.timestamp() - time.time()) < 60
            assert isinstance(line.pop("microseconds"), int)
        assert lines[0] == lines[1] == lines[3]
        assert (lines[2]["referer"], lines[2]["user_agent"]) == ("r", "x")

    run(test)


@pytest.mark.parametrize(
    ("log_format", "expected"), [("json", "json"), ("text", "common"), ("auto", "json")]
)
def test_by_default_the_access_log_has_the_form_of_the_log(
    tmp_path: Path, log_format: str, expected: str
) -> None:
    async def test() -> None:
        fd = os.open(tmp_path / "log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        log = LogSettings(access_log=True, log_format=log_format)
        bench = Bench(hello, config=dataclasses.replace(Config(), log=log))
        bench.server.set_access_log(fd)
        assert type(bench.server.access) is STYLES[expected]
        os.close(fd)

    run(test)


@pytest.mark.parametrize("style", list(STYLES))
@pytest.mark.parametrize(
    "request_",
    [
        b'GET /" HTTP/1.1"\x1b[31m\r\nX: y\r\n\r\n',
        b"GET /\x1b]0;owned\x07 HTTP/1.1\r\nHost: a\r\n\r\n",
        b'GET /"%0a HTTP/1.1\r\nHost: a\r\n\r\n',
        b"GET /\x00\x7f\r\n\r\n",
        b"GET /\x9b31m HTTP/1.1\r\nHost: a\r\n\r\n",
        b'GET / HTTP/1.1\r\nHost: a\r\nReferer: "} {"\r\nUser-Agent: \\" \xff\x9b\r\n\r\n',
        b"GET / HTTP/1.1\nHost: a\n\n192.0.2.66 - - forged\n\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b'GET / HTTP/1.1\r\nHost: a\r\nX-Request-ID: a b"\xff\r\n\r\n',
    ],
)
def test_nobody_forges_a_line_or_drives_a_terminal(
    tmp_path: Path, style: str, request_: bytes
) -> None:
    (line,) = logged(tmp_path, request_, style=style)
    assert line.isascii()
    assert line.isprintable()
    if style == "json":
        assert json.loads(line)["client"] == "192.0.2.1"
    else:
        assert (COMMON if style == "common" else COMBINED).fullmatch(line), line


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_of_what_is_no_request_the_line_shows_what_was_read(tmp_path: Path, size: int) -> None:
    async def test() -> None:
        bench = Logged(tmp_path)
        request = b"GET /a/../\xff HTTP/1.1\r\nHost: a\r\n\r\n"
        for at in range(0, len(request), size):
            if not bench.transport.closed and not bench.transport.ended:
                bench.feed(request[at : at + size])
        await bench.settle()
        (line,) = bench.lines()
        assert ' "GET /a/../\\xff' in line
        os.close(bench.fd)

    run(test)


def test_it_is_cut(tmp_path: Path) -> None:
    (line,) = logged(tmp_path, b"\xff" * 5000 + b"\r\n\r\n")
    assert line.count("\\xff") == CUT


def test_a_head_that_came_too_slowly_is_shown(tmp_path: Path) -> None:
    async def test() -> None:
        bench = Logged(tmp_path)
        bench.feed(b"GET /slow HTT")
        bench.pass_time(20)
        (line,) = bench.lines()
        assert '"GET /slow HTT" 408 ' in line
        os.close(bench.fd)

    run(test)


def test_a_body_that_goes_wrong_is_a_line_of_its_request(tmp_path: Path) -> None:
    head = b"POST /p HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"

    async def test() -> None:
        bench = Logged(tmp_path, app=waits)
        await bench.talk(head, b"zz\r\n")
        (line,) = bench.lines()
        assert '"POST /p HTTP/1.1" 400 ' in line
        os.close(bench.fd)

    async def waits(scope: Any, receive: Any, send: Any) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    run(test)


def test_the_client_is_the_real_one(tmp_path: Path) -> None:
    (line,) = logged(tmp_path, get("/", "X-Forwarded-For: 203.0.113.7", "X-Forwarded-Proto: https"))
    assert line.startswith("203.0.113.7 - - ")


def names_of(path: Path, *headers: str, trusted: bool = True) -> tuple[str, list[bytes]]:
    """The name in the log, and those that the app saw."""
    seen: list[bytes] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.extend(value for name, value in scope["headers"] if name == b"x-request-id")
        await hello(scope, receive, send)

    async def test() -> None:
        bench = Logged(path, app=app)
        bench.connection.trusted = trusted
        await bench.talk(get("/", *headers))
        seen.append(bench.lines()[-1].split()[-1].encode())
        os.close(bench.fd)

    run(test)
    return seen.pop().decode(), seen


def test_a_trusted_proxys_name_for_a_request_is_kept(tmp_path: Path) -> None:
    name, seen = names_of(tmp_path, "X-Request-ID: 7b-a_C.9", "Accept: */*")
    assert name == "7b-a_C.9"
    assert seen == [b"7b-a_C.9"]


@pytest.mark.parametrize(
    ("headers", "trusted"),
    [
        ((), True),
        (("X-Request-ID: abc",), False),
        (("X-Request-ID: a b",), True),
        (("X-Request-ID: " + "a" * 129,), True),
        (('X-Request-ID: a"',), True),
        (("X-Request-ID:",), True),
    ],
)
def test_else_it_gets_a_new_one_which_the_app_sees(
    tmp_path: Path, headers: tuple[str, ...], trusted: bool
) -> None:
    name, seen = names_of(tmp_path, *headers, trusted=trusted)
    assert seen == [name.encode()]
    assert re.fullmatch(r"[0-9a-f]{24,}", name)


def test_names_differ(tmp_path: Path) -> None:
    lines = logged(tmp_path, *[get("/")] * 5)
    assert len({line.split()[-1] for line in lines}) == 5


def test_an_app_may_do_to_its_scope_what_it_likes(tmp_path: Path) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["headers"].append(("x", 1))
        scope["client"] = ('evil\n"\x1b', 0)
        scope["method"] = 'GET"\x1b'
        if scope["path"] == "/clear":
            scope.clear()
        await hello(scope, receive, send)

    first, second = logged(tmp_path, get("/"), get("/clear"), app=app)
    assert first.startswith('evil\\x0a\\"\\x1b - - ')
    assert second.startswith("- - - ")
    assert (first + second).isprintable()


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    os.close(reader)
    os.close(writer)


def fill(writer: int) -> None:
    """Until nothing more goes in, with flags that are ours alone."""
    own = os.open(f"/proc/self/fd/{writer}", os.O_WRONLY | os.O_NONBLOCK)
    for size in (65536, 1):
        while True:
            try:
                os.write(own, b"x" * size)
            except BlockingIOError:
                break
    os.close(own)


def drain(reader: int) -> bytes:
    flags = fcntl.fcntl(reader, fcntl.F_GETFL)
    fcntl.fcntl(reader, fcntl.F_SETFL, flags | os.O_NONBLOCK)
    data = b""
    try:
        while piece := os.read(reader, 65536):
            data += piece
    except BlockingIOError:
        pass
    return data


LINE = b"a line of about forty bytes, like others\n"


def test_a_full_pipe_is_not_waited_for(pipe: tuple[int, int]) -> None:
    """Its flags stay as they are: the master, siblings and the shell have the same descriptor."""
    reader, writer = pipe
    outlet = Outlet(writer)
    fill(writer)
    assert outlet.write(LINE * 3) == 3
    drain(reader)
    assert outlet.write(LINE * 500) == 0
    assert drain(reader) == LINE * 500
    assert not fcntl.fcntl(writer, fcntl.F_GETFL) & os.O_NONBLOCK
    outlet.close()
    os.fstat(writer)


def test_lines_that_do_not_fit_are_counted_and_none_is_torn(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    outlet = Outlet(writer)
    lost = outlet.write(LINE * 5000)
    data = drain(reader)
    assert lost == 5000 - data.count(b"\n") > 0
    assert data == LINE * data.count(b"\n")
    assert len(data) <= 5000 * len(LINE)
    outlet.close()


def test_a_long_line_that_was_cut_is_ended_by_the_next(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    outlet = Outlet(writer)
    assert outlet.write(b"x" * 200_000 + b"\n") == 1
    assert outlet.write(LINE) == 1
    drain(reader)
    assert outlet.write(LINE) == 0
    assert drain(reader) == b"\n" + LINE
    outlet.close()


@pytest.mark.parametrize("own", [True, False])
def test_a_socket_that_is_full_is_not_waited_for(own: bool) -> None:
    """As standard error is under systemd. `own`: with a copy of the socket, or only asked first."""
    left, right = socket.socketpair()
    with left, right:
        outlet = Outlet(left.fileno())
        if not own:
            outlet.close()
        lost = outlet.write(LINE * 20_000)
        assert lost > 0
        right.setblocking(False)
        got = b""
        while len(got) < (20_000 - lost) * len(LINE):
            got += right.recv(1 << 20)
        assert got.startswith(LINE * (20_000 - lost))
        outlet.close()


def test_a_reader_that_has_gone_costs_lines_and_nothing_else() -> None:
    reader, writer = os.pipe()
    outlet = Outlet(writer)
    os.close(reader)
    assert outlet.write(LINE * 2) == 2
    os.close(writer)
    assert outlet.write(LINE) == 1
    outlet.close()
    assert Outlet(writer).write(LINE) == 1


def test_pieces_fit_a_pipe(pipe: tuple[int, int]) -> None:
    """A write of at most PIPE_BUF is whole or not at all, so lines of siblings do not mix."""
    assert PIPE >= 512
    outlet = Outlet(pipe[1])
    pieces: list[int] = []
    really = outlet._write

    def note(data: bytes) -> int:
        pieces.append(really(data))
        return pieces[-1]

    outlet._write = note  # type: ignore[method-assign]
    outlet.write(LINE * 1000)
    assert max(pieces) <= PIPE
    assert all(piece % len(LINE) == 0 for piece in pieces)
    outlet.close()


def test_losses_are_told_when_somebody_hears_it_again(caplog: Any, pipe: tuple[int, int]) -> None:
    async def test() -> None:
        log: AccessLog = STYLES["common"](writer, {})
        scope = {"method": "", "client": None}
        fill(writer)
        for _ in range(4):
            log.add_refused(scope, b"x", 400, 0)
            log.flush()
        assert log.lost == 4
        assert not caplog.records
        drain(reader)
        for _ in range(4):
            log.add_refused(scope, b"x", 400, 0)
            log.flush()
        log.close()

    reader, writer = pipe
    run(test)
    (record,) = caplog.records
    assert record.fields == {"lines": 4}


def test_what_is_remembered_of_clients_is_bounded(tmp_path: Path) -> None:
    async def test() -> None:
        log = STYLES["combined"](os.open(os.devnull, os.O_WRONLY), {})
        for number in range(2 * MOST):
            log.add_refused({"method": "", "client": None}, b"x%d" % number, 400, 0)
        assert len(log._texts) <= MOST
        log.add_refused({"method": "", "client": None}, b"x" * 1000, 400, 0)
        assert b"x" * CUT in log._texts
        log.flush()

    run(test)
