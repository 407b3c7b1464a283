"""Files over real sockets: whole, in parts, to slow clients, and to those that leave."""

import array
import asyncio
import fcntl
import os
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest

from clusterd.app.peer import ClientGone, ContractError
from clusterd.config.serving import HttpSettings
from clusterd.worker.connection import Connection
from tests.support.authority import Authority
from tests.unit.worker.fakes import Bench, FakeTransport, get, run
from tests.unit.worker.test_loopback import attach, gone, new_server, read_end, read_until

MIB = 1024 * 1024
CLOSE = "Connection: close"
WHOLE = array.array("I", range(2 * MIB)).tobytes()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file of some MiB, in which every place looks different."""
    path = tmp_path / "file"
    path.write_bytes(WHOLE)
    return path


def sends(*messages: dict[str, Any], headers: Any = ()) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for message in messages:
            await send(message)

    return app


def pathsend(path: Path) -> dict[str, Any]:
    return {"type": "http.response.pathsend", "path": str(path)}


def part(file: Any, more: bool = False, **where: int) -> dict[str, Any]:
    kind = "http.response.zerocopysend"
    return {"type": kind, "file": file, "more_body": more, **where}


async def ask(app: Any, *headers: str) -> tuple[bytes, bytes]:
    """Head and body of the answer, over a connection that is closed after it."""
    server = new_server(app)
    client, _ = await attach(server)
    with client:
        await server.loop.sock_sendall(client, get("/", CLOSE, *headers))
        head, _, body = (await read_end(client)).partition(b"\r\n\r\n")
    await gone(server)
    assert server.bytes_out == len(head) + 4 + len(body)
    return head, body


def unchunked(data: bytes) -> bytes:
    """A chunked body, taken apart strictly."""
    body = b""
    while True:
        line, _, data = data.partition(b"\r\n")
        size = int(line, 16)
        body += data[:size]
        assert data[size : size + 2] == b"\r\n"
        data = data[size + 2 :]
        if not size:
            assert not data
            return body


def test_a_large_file_arrives_whole(path: Path) -> None:
    """And the connection serves on: nothing of the file is left anywhere."""

    async def test() -> None:
        server = new_server(sends(pathsend(path)))
        client, _ = await attach(server)
        with client:
            for _ in range(2):
                await server.loop.sock_sendall(client, get())
                answer = await read_until(client, lambda data: data.endswith(WHOLE[-100:]))
                head, _, body = answer.partition(b"\r\n\r\n")
                assert b"content-length: %d" % len(WHOLE) in head
                assert body == WHOLE
        await gone(server)

    run(test)


def test_a_file_that_the_kernel_cannot_copy_is_read(path: Path) -> None:
    """Some file systems have no sendfile, and it refuses a socket with O_APPEND: sendfile(2)."""

    async def test() -> None:
        server = new_server(sends(pathsend(path)))
        client, link = await attach(server)
        flags = fcntl.fcntl(link.fileno(), fcntl.F_GETFL)
        fcntl.fcntl(link.fileno(), fcntl.F_SETFL, flags | os.O_APPEND)
        with client:
            await server.loop.sock_sendall(client, get("/", CLOSE))
            head, _, body = (await read_end(client)).partition(b"\r\n\r\n")
        await gone(server)
        assert b"content-length: %d" % len(WHOLE) in head
        assert body == WHOLE

    run(test)


def test_requests_behind_a_file_are_answered_after_it(path: Path) -> None:
    """A pipeline's next answer never gets into the file."""

    async def test() -> None:
        server = new_server(sends(pathsend(path)))
        client, _ = await attach(server)
        with client:
            await server.loop.sock_sendall(client, get() + get("/", CLOSE))
            answers = await read_end(client)
        assert answers.count(WHOLE) == 2
        assert answers.count(b"HTTP/1.1 200 OK") == 2
        await gone(server)

    run(test)


def test_parts_of_files_between_pieces(path: Path) -> None:
    """Mixed with ordinary pieces, in chunks of their own; a file is read from where it stands."""

    async def test() -> None:
        piece = {"type": "http.response.body", "body": b"|", "more_body": True}
        with path.open("rb", buffering=0) as file:
            file.seek(8)
            app = sends(
                part(file, True, count=8),
                piece,
                part(file, True, count=MIB),
                piece,
                part(file, True, offset=0, count=8),
                piece,
                part(file, True, offset=len(WHOLE) - 8),
                part(file, True, offset=len(WHOLE)),
                part(file, count=0),
            )
            head, body = await ask(app)
            assert file.tell() == 16 + MIB
        assert b"transfer-encoding: chunked" in head
        wanted = [WHOLE[8:16], WHOLE[16 : 16 + MIB], WHOLE[:8], WHOLE[-8:]]
        assert unchunked(body) == b"|".join(wanted)

    run(test)


def test_a_file_as_the_end_of_a_body_with_a_length(path: Path) -> None:
    async def test() -> None:
        size = len(WHOLE)
        with path.open("rb") as file:
            headers = [(b"content-length", b"%d" % size)]
            _, body = await ask(sends(part(file, offset=0), headers=headers))
            assert body == WHOLE
            headers = [(b"content-length", b"%d" % (size - 1))]
            assert await ask_broken(sends(part(file, offset=0), headers=headers)) == b"RESET"

    run(test)


async def ask_broken(app: Any) -> bytes:
    """All that comes of an answer that is cut by a reset."""
    server = new_server(app)
    client, _ = await attach(server)
    data = b""
    with client:
        await server.loop.sock_sendall(client, get("/", CLOSE))
        try:
            while piece := await server.loop.sock_recv(client, MIB):
                data += piece
        except ConnectionResetError:
            data += b"RESET"
    await gone(server)
    return data


def test_a_file_cut_short_meanwhile_cuts_the_answer(path: Path) -> None:
    """Its client must not take what came for the whole."""

    async def test() -> None:
        size = len(WHOLE)

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            first = part(file, True, offset=0, count=8)
            await send(first)
            os.truncate(path, 5)
            await send(part(file, offset=8))

        headers = [(b"content-length", b"%d" % size)]
        with path.open("rb") as file:
            answer = await ask_broken(app)
        assert len(answer) < size
        assert answer.endswith(b"RESET")

    run(test)


def test_a_client_that_leaves_ends_it(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The app hears of it as of any other piece, and nothing is logged as its fault."""

    async def test() -> None:
        raised: list[BaseException] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            try:
                await send(pathsend(path))
            except OSError as error:
                raised.append(error)
                raise

        server = new_server(app)
        client, connection = await attach(server)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        with client:
            await server.loop.sock_sendall(client, get())
            await server.loop.sock_recv(client, 1)
        await gone(server)
        while server.tasks:
            await asyncio.sleep(0)
        assert [str(error) for error in raised] == ["the client has left"]
        assert not connection._drains

    run(test)
    assert not caplog.records


def test_a_client_that_takes_nothing_is_dropped(path: Path) -> None:
    """The write timeout holds for what goes past the transport, too."""

    async def test() -> None:
        server = new_server(sends(pathsend(path)), HttpSettings(write_timeout=0.05))
        client, _ = await attach(server)
        with client:
            await server.loop.sock_sendall(client, get())
            await gone(server)
            with pytest.raises(ConnectionResetError):
                await read_end(client)

    run(test)


def test_cancelling_leaves_nothing_behind(path: Path) -> None:
    """A drain that is out of time cancels it half-way."""

    async def test() -> None:
        server = new_server(sends(pathsend(path)))
        client, connection = await attach(server)
        with client:
            await server.loop.sock_sendall(client, get())
            await server.loop.sock_recv(client, 1)
            while not connection._drains:
                await asyncio.sleep(0)
            assert connection.cancel()
            await gone(server)
            assert not connection._drains

    run(test)


def test_a_file_over_tls_goes_in_pieces(path: Path, tmp_path: Path) -> None:
    """Whole all the same, and zero copy is not offered where there is none."""

    async def test() -> None:
        offered: list[Any] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            offered.append(scope["extensions"])
            await sends(pathsend(path))(scope, receive, send)

        authority = Authority(tmp_path)
        ours = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        ours.load_cert_chain(*authority.issue("server"))
        server = new_server(app, HttpSettings(file_extensions=True))
        with socket.create_server(("127.0.0.1", 0)) as listener:
            client = socket.create_connection(listener.getsockname())
            accepted, _ = listener.accept()
        for sock in (client, accepted):
            sock.setblocking(False)
        _, (reader, writer) = await asyncio.gather(
            server.loop.connect_accepted_socket(lambda: Connection(server), accepted, ssl=ours),
            asyncio.open_connection(
                sock=client, ssl=authority.client(), server_hostname="localhost"
            ),
        )
        writer.write(get("/", CLOSE))
        head, _, body = (await reader.read(-1)).partition(b"\r\n\r\n")
        assert b"content-length: %d" % len(WHOLE) in head
        assert body == WHOLE
        writer.close()
        await gone(server)
        assert "http.response.pathsend" in offered[0]
        assert "http.response.zerocopysend" not in offered[0]

    run(test)


def test_nothing_comes_between_the_bytes_of_a_file(path: Path) -> None:
    """Of an app that sends from two tasks at once, the second hears that it may not."""

    async def test() -> None:
        refused: list[str] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            sending = asyncio.ensure_future(send(pathsend(path)))
            await asyncio.sleep(0)
            with path.open("rb") as file:
                for message in ({"type": "http.response.body", "body": b"!"}, part(file)):
                    try:
                        await send(message)
                    except ContractError as error:
                        refused.append(error.message)
            await sending

        head, body = await ask(app)
        assert b"200" in head
        assert body == WHOLE
        assert [text.split(" was ")[1] for text in refused] == ["sent while a file"] * 2

    run(test)


def test_a_file_waits_for_what_was_written_before_it() -> None:
    """What the transport still holds would come after it otherwise, within the file's bytes."""

    async def test() -> None:
        bench = Bench(sends())
        transport = Limited()
        transport.protocol = connection = Connection(bench.server)
        connection.connection_made(transport)
        transport.stuck = True
        connection.write(b"a head")
        sending = asyncio.ensure_future(connection.send_file(0, 0, 1))
        await bench.settle()
        assert not sending.done()
        transport.drained()
        await bench.settle()
        assert isinstance(sending.exception(), ClientGone)  # there is no socket here
        assert transport.limits == [0, None]  # and then as usual again

    run(test)


class Limited(FakeTransport):
    """Tells its protocol to pause once it holds more than it was told it may."""

    def __init__(self) -> None:
        super().__init__()
        self.limits: list[int | None] = []

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self.limits.append(high)
        if high is not None and self.unsent > high:
            self.protocol.pause_writing()
