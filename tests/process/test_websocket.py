"""WebSockets over a real cluster with a real client: echo, every end, reload, stop and TERM."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as connect_async
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from tests.support.server import LIMIT, Server, serving

MANY = 50


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("sockets"), "sockets:app") as server:
        yield server


def url(server: Server, path: str) -> str:
    host, port = server.address
    return f"ws://{host}:{port}{path}"


@pytest.mark.parametrize("compression", ["deflate", None])
def test_messages_come_back(server: Server, compression: str | None) -> None:
    with connect(url(server, "/echo"), compression=compression, max_size=None) as client:
        for message in ("", "é" * 10, b"\0" * 70_000, "x" * 5_000_000):
            client.send(message)
            assert client.recv(LIMIT) == message
        client.send(["a", "b", "c"])  # in fragments
        assert client.recv(LIMIT) == "abc"
        client.ping().wait(LIMIT)
        assert client.response is not None
        extensions = client.response.headers.get("Sec-WebSocket-Extensions", "")
        assert ("permessage-deflate" in extensions) is (compression is not None)


def test_the_app_chooses_a_subprotocol(server: Server) -> None:
    with connect(url(server, "/echo"), subprotocols=["one", "two"]) as client:  # type: ignore[list-item]
        assert client.subprotocol == "one"


@pytest.mark.parametrize(("path", "code"), [("/closes", 4321), ("/fails", 1011)])
def test_close_codes_of_the_app(server: Server, path: str, code: int) -> None:
    with connect(url(server, path)) as client:
        with pytest.raises(ConnectionClosed) as closed:
            client.recv(LIMIT)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == code


def test_a_message_beyond_the_limit(server: Server) -> None:
    """16 MiB, also where the client compresses it to nothing."""
    with connect(url(server, "/echo")) as client:
        with pytest.raises(ConnectionClosed) as closed:
            client.send(bytes(16 * 2**20 + 1))
            client.recv(LIMIT)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1009


@pytest.mark.parametrize(
    ("path", "status", "body"),
    [("/denies", 402, b"pay first"), ("/refuses", 403, b"403 Forbidden\n")],
)
def test_a_denial(server: Server, path: str, status: int, body: bytes) -> None:
    with pytest.raises(InvalidStatus) as denied:
        connect(url(server, path))
    response = denied.value.response
    assert (response.status_code, response.body) == (status, body)
    assert response.headers.get("X-Why") == ("because" if path == "/denies" else None)


async def numbers(client: ClientConnection) -> tuple[list[str], int]:
    """Everything until the close frame, and its code. More is asked for after five of ten."""
    got: list[str] = []
    with pytest.raises(ConnectionClosed) as closed:
        await client.send("go")
        while True:
            got.append(str(await client.recv()))
            if got[-1].endswith("5"):
                with contextlib.suppress(ConnectionClosed):  # what came before is still to be read
                    await client.send("go on")
    assert closed.value.rcvd is not None, "the connection was cut"
    return got, closed.value.rcvd.code


async def written(place: Path, name: str) -> tuple[int, int]:
    """What the app wrote down of a client: how many messages it had sent, and the code it saw."""
    while not (place / name).exists():
        await asyncio.to_thread(os.sched_yield)
    sent, code = (place / name).read_text().split()
    return int(sent), int(code)


@pytest.mark.parametrize("why", ["reload", "stop"])
def test_no_message_is_lost_that_the_app_had_sent(why: str, tmp_path: Path) -> None:
    """DESIGN §3: 1012 at a reload, after which clients come back at once; 1001 at a stop."""
    code = {"reload": 1012, "stop": 1001}[why]

    async def use(server: Server) -> None:
        clients = [await connect_async(url(server, f"/counts/{n}")) for n in range(MANY)]
        tasks = [asyncio.create_task(numbers(client)) for client in clients]
        async with connect_async(url(server, "/echo")) as one_of_them:
            if why == "reload":
                await asyncio.to_thread(server.ask, "reload", wait=True)
                # As browsers' scripts do when they see 1012.
                again = asyncio.create_task(numbers(one_of_them))
                assert (await again)[1] == code
                async with connect_async(url(server, "/echo")) as back:
                    await back.send("here again")
                    assert await back.recv() == "here again"
            else:
                server.signal(signal.SIGTERM)
            for name, (got, told) in enumerate(await asyncio.gather(*tasks)):
                sent, seen = await written(tmp_path, str(name))
                assert told == seen == code
                assert got == [str(number) for number in range(sent)]

    options = ("--graceful-timeout", "6s")
    with serving(tmp_path, "sockets:app", *options, PLACE=str(tmp_path)) as server:
        asyncio.run(asyncio.wait_for(use(server), LIMIT))
        if why == "stop":
            assert server.wait() == 0


def test_term_wins_over_an_app_that_ignores_it(tmp_path: Path) -> None:
    with serving(tmp_path, "sockets:app", "--graceful-timeout", "2s") as server:
        with connect(url(server, "/ignores")) as client:
            server.signal(signal.SIGTERM)
            with pytest.raises(ConnectionClosed) as closed:
                client.recv(LIMIT)
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1001
        assert server.wait() == 0
