"""The same over real sockets: what only the kernel and the real transport can show."""

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from clusterd.config.serving import HttpSettings
from clusterd.config.settings import Config
from clusterd.ipc.scoreboard import Cell
from clusterd.worker.access import STYLES
from clusterd.worker.connection import Connection
from clusterd.worker.server import Server
from tests.unit.worker.fakes import echo, get, hello, run, statuses


def new_server(app: Any, http: HttpSettings | None = None) -> Server:
    row = memoryview(bytearray(8 * 64)).cast("Q")
    return Server(app, Config(http=http or HttpSettings()), asyncio.get_running_loop(), row, {})


async def attach(server: Server) -> tuple[socket.socket, Connection]:
    """A client's socket, and the connection at its other end."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        accepted, _ = listener.accept()
    client.setblocking(False)
    accepted.setblocking(False)
    _, connection = await server.loop.connect_accepted_socket(lambda: Connection(server), accepted)
    return client, connection


async def read_until(client: socket.socket, enough: Callable[[bytes], bool]) -> bytes:
    loop = asyncio.get_running_loop()
    data = b""
    while not enough(data):
        piece = await loop.sock_recv(client, 1 << 20)
        if not piece:
            break
        data += piece
    return data


async def read_end(client: socket.socket) -> bytes:
    return await read_until(client, lambda _: False)


async def gone(server: Server) -> None:
    """Wait until the last connection is gone."""
    event = asyncio.Event()
    server.when_empty = event.set
    if server.open:
        await event.wait()


def live(test: Callable[[], Awaitable[None]]) -> None:
    run(test)


def test_requests_over_tcp() -> None:
    async def test() -> None:
        server = new_server(echo)
        client, _ = await attach(server)
        with client:
            await server.loop.sock_sendall(client, get("/1") * 3)
            data = await read_until(client, lambda data: data.count(b"GET /1 ") == 3)
            assert statuses(data) == [200] * 3
        await gone(server)
        assert not server.wheel._buckets

    live(test)


def test_scope_over_a_unix_socket(tmp_path: Path) -> None:
    async def test() -> None:
        seen: list[Any] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            seen.append(scope)
            await hello(scope, receive, send)

        server = new_server(app)
        path = str(tmp_path / "s")
        with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as client:
            listener.bind(path)
            listener.listen()
            client.connect(path)
            client.setblocking(False)
            accepted, _ = listener.accept()
            accepted.setblocking(False)
            await server.loop.connect_accepted_socket(lambda: Connection(server), accepted)
            await server.loop.sock_sendall(client, get())
            await read_until(client, lambda data: data.endswith(b"hello"))
        assert seen[0]["server"] == (path, None)
        assert seen[0]["client"] is None
        await gone(server)

    live(test)


def test_a_refusal_reaches_a_client_that_is_still_sending() -> None:
    """413 to an upload: the answer is not lost to a reset."""

    async def test() -> None:
        server = new_server(echo, HttpSettings(limit_body=10))
        client, _ = await attach(server)
        with client:
            head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 300000\r\n\r\n"
            await server.loop.sock_sendall(client, head + b"x" * 300000)
            assert statuses(await read_end(client)) == [413]
        await gone(server)

    live(test)


def test_a_big_answer_to_a_slow_reader() -> None:
    """The app waits for the client: what piles up in this process stays bounded."""

    async def test() -> None:
        most = 0

        async def app(scope: Any, receive: Any, send: Any) -> None:
            nonlocal most
            await send({"type": "http.response.start", "status": 200, "headers": []})
            for _ in range(200):
                await send({"type": "http.response.body", "body": b"x" * 65536, "more_body": True})
                most = max(most, connection._transport.get_write_buffer_size())
            await send({"type": "http.response.body"})

        server = new_server(app)
        client, connection = await attach(server)
        with client:
            await server.loop.sock_sendall(client, get("/", "Connection: close"))
            data = await read_end(client)
        assert data.count(b"x") == 200 * 65536
        assert most < 200_000
        await gone(server)

    live(test)


@pytest.mark.parametrize("last", [False, True], ids=["kept", "closing"])
def test_a_client_that_takes_nothing_is_reset(last: bool) -> None:
    """After a plain close the kernel would keep megabytes for it, outside every limit."""

    async def test() -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"x" * 20_000_000})

        server = new_server(app)
        client, connection = await attach(server)
        with client:
            options = ("Connection: close",) if last else ()
            await server.loop.sock_sendall(client, get("/", *options))
            while not connection.is_paused:
                await asyncio.sleep(0)
            assert connection.is_closing is last
            connection.overdue(server.clock() + 60)
            await gone(server)
            try:
                await read_end(client)
            except ConnectionResetError:
                pass
            else:
                raise AssertionError("the kernel went on sending")

    live(test)


def test_a_cut_answer_is_a_reset() -> None:
    """Where the connection's end ends the body, a clean end would pass for a whole answer."""

    async def test() -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"half", "more_body": True})
            await receive()
            raise SystemExit

        server = new_server(app)
        client, _ = await attach(server)
        with client:
            await server.loop.sock_sendall(client, get(version="1.0"))
            try:
                await read_end(client)
            except ConnectionResetError:
                pass
            else:
                raise AssertionError("the answer ended as if it were whole")
        await gone(server)

    live(test)


def test_a_released_connection_goes_on_elsewhere() -> None:
    """No FIN, no reset: the next request, already on its way, is answered by the other server."""

    async def test() -> None:
        first, second = new_server(hello), new_server(echo)
        client, connection = await attach(first)
        with client:
            await first.loop.sock_sendall(client, get())
            await read_until(client, lambda data: data.endswith(b"hello"))
            assert connection.idle
            client.send(get("/next"))
            fd = connection.release()
            assert fd is not None
            assert connection.release() is None
            await gone(first)
            sock = socket.socket(fileno=fd)
            await second.loop.connect_accepted_socket(lambda: Connection(second), sock)
            data = await read_until(client, lambda data: b"GET /next " in data)
            assert statuses(data) == [200]
        await gone(second)

    live(test)


def test_refusing_when_all_are_full() -> None:
    async def test() -> None:
        server = new_server(hello)
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        server.refuse(ours)
        answer = await read_end(theirs)
        theirs.close()
        assert statuses(answer) == [503]
        assert b"retry-after: 1\r\n" in answer
        assert ours.fileno() == -1
        server.publish()
        assert (server.row[Cell.ACCEPTED], server.row[Cell.REQUESTS]) == (1, 1)

    live(test)


def test_the_access_log(tmp_path: Path) -> None:
    """One line a request, nothing forged, and written again after a reopen."""

    async def test() -> None:
        server = new_server(hello)
        fds = [os.open(tmp_path / name, os.O_WRONLY | os.O_CREAT) for name in ("1", "2")]
        server.access = STYLES["common"](fds[0], {})
        client, _ = await attach(server)
        with client:
            for path, fd in (('/a"%0d?b=\\x', fds[1]), ("/2", fds[1])):
                await server.loop.sock_sendall(client, get(path))
                await read_until(client, lambda data: data.endswith(b"hello"))
                server.set_access_log(fd)
            await server.loop.sock_sendall(client, b"bad\r\n\r\n")
            await read_end(client)
        await gone(server)
        assert server.access is not None
        server.access.flush()
        first, second = ((tmp_path / name).read_text() for name in ("1", "2"))
        assert first.startswith("127.0.0.1 - - [")
        assert '] "GET /a\\"%0d?b=\\\\x HTTP/1.1" 200 ' in first
        assert first.count("\n") == 1
        assert [line.split('"')[1] for line in second.splitlines()] == ["GET /2 HTTP/1.1", "bad"]
        for fd in fds:
            os.close(fd)

    live(test)
