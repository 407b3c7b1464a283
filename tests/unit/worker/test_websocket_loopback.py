"""WebSockets over real sockets: what only the kernel and the real transport can show."""

import asyncio
import gc
import socket
from typing import Any

import pytest
from websockets.client import ClientProtocol
from websockets.protocol import OPEN

from clusterd.app.peer import ClientGone
from clusterd.app.websocket import Session
from clusterd.worker.server import Server
from clusterd.worker.websocket import WebSocket
from tests.unit.wire.frames import closing
from tests.unit.worker.fakes import run
from tests.unit.worker.sockets import Scribe, shake, text, told
from tests.unit.worker.test_loopback import attach, gone, new_server, read_end, read_until

SIZE = 100_000


async def shaken(server: Server) -> tuple[socket.socket, WebSocket, bytes]:
    """A client whose handshake is over, and what was read behind the answer."""
    client, _ = await attach(server)
    await server.loop.sock_sendall(client, shake())
    data = await read_until(client, lambda data: b"\r\n\r\n" in data)
    (link,) = server.connections
    assert isinstance(link, WebSocket)
    return client, link, data.partition(b"\r\n\r\n")[2]


def read_as_client(data: bytes) -> list[Any]:
    client = ClientProtocol("ws://a/", state=OPEN, max_size=None)  # type: ignore[arg-type]
    client.receive_data(data)
    return [told(event) for event in client.events_received()]  # type: ignore[arg-type]


def test_what_was_sent_before_our_close_arrives_before_it() -> None:
    """Also where the client had stopped reading, and megabytes wait for it."""

    async def test() -> None:
        sent = 0

        async def app(scope: Any, receive: Any, send: Any) -> None:
            nonlocal sent
            await send({"type": "websocket.accept"})
            with pytest.raises(ClientGone):
                while True:
                    await send({"type": "websocket.send", "bytes": bytes(SIZE)})
                    sent += 1

        server = new_server(app)
        client, link, data = await shaken(server)
        with client:
            while not link.is_paused:
                await asyncio.sleep(0)
            assert link._transport.get_write_buffer_size() < 3 * SIZE
            server.drain_begins(last=True, leave_by=server.clock() + 100)
            data += await read_until(client, lambda data: data.endswith(closing_frame()))
            *messages, end = read_as_client(data)
            assert end == (1001, "")
            # One more may be under way: its `send` waits for the client, and then returns.
            assert sent == len(messages)
            await server.loop.sock_sendall(client, closing(1001))
            assert await read_end(client) == b""
        await gone(server)
        assert not server.wheel._buckets

    run(test)


def closing_frame() -> bytes:
    return b"\x88\x02" + (1001).to_bytes(2)


def test_a_violation_is_told_though_the_client_goes_on_sending() -> None:
    """Closing with bytes unread would reset the connection, and take the close frame along."""

    async def test() -> None:
        server = new_server(Scribe())
        client, _, _ = await shaken(server)
        with client:
            await server.loop.sock_sendall(client, b"\x81\x01a" + text("x" * SIZE))
            ((code, _),) = read_as_client(await read_end(client))
            assert code == 1002
        await gone(server)

    run(test)


def test_a_client_that_vanishes_ends_its_session() -> None:
    async def test() -> None:
        scribe = Scribe()
        server = new_server(scribe)
        client, _, _ = await shaken(server)
        client.close()
        await scribe.over.wait()
        assert scribe.received[-1]["code"] == 1006
        await gone(server)
        assert not server.tasks

    run(test)


def test_what_is_over_is_freed_without_the_collector() -> None:
    """Connections come and go by the thousand; the collector comes when it likes."""

    async def test() -> None:
        scribe = Scribe()
        server = new_server(scribe)
        gc.collect()
        gc.disable()
        try:
            client, link, _ = await shaken(server)
            server.drain_begins(last=False, leave_by=server.clock() + 1000)
            del link
            client.close()
            await scribe.over.wait()
            await gone(server)
            await asyncio.sleep(0)
            left = [item for item in gc.get_objects() if isinstance(item, WebSocket | Session)]
            assert not left
        finally:
            gc.enable()

    run(test)
