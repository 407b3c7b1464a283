"""Streams, WebSockets and uploads while their workers leave, for real: nothing sent is lost."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from tests.support.server import LIMIT, Server, serving

CROWD = 50


class Listener:
    """One client that reads numbers, and comes back with the last it has whenever it is let go."""

    def __init__(self, server: Server, polite: bool) -> None:
        self.server = server
        self.path = "/polite" if polite else "/plain"
        self.last = 0
        self.got: dict[str, int] = {}  # the last number of each stream
        self.pids: list[int] = []  # whom it was served by, in that order
        self.ends: list[Any] = []
        self.news = asyncio.Event()

    async def listen(self, numbers: "Callable[[Listener], AsyncIterator[Any]]") -> None:
        while True:
            async for told in numbers(self):
                assert told["number"] == self.last + 1
                self.last = self.got[told["stream"]] = told["number"]
                if told["pid"] not in self.pids:
                    self.pids.append(told["pid"])
                self.news.set()

    async def until(self, enough: Callable[[], bool]) -> None:
        """Wait until what it has is enough."""
        while not enough():
            self.news.clear()
            await self.news.wait()


async def events(listener: Listener) -> AsyncIterator[Any]:
    """Server-sent events, whose chunks must end as chunks do."""
    reader, writer = await asyncio.open_connection(*listener.server.address)
    try:
        head = f"GET {listener.path} HTTP/1.1\r\nHost: a\r\nLast-Event-ID: {listener.last}\r\n\r\n"
        writer.write(head.encode())
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
        while size := int(await reader.readuntil(b"\r\n"), 16):
            event = await reader.readexactly(size)
            assert await reader.readexactly(2) == b"\r\n"
            if event.startswith(b"id: "):
                yield json.loads(event.partition(b"data: ")[2])
            else:
                listener.ends.append(event)
        listener.ends.append(await reader.readexactly(2))  # the blank line after the last chunk
    finally:
        writer.close()


async def messages(listener: Listener) -> AsyncIterator[Any]:
    """A WebSocket's messages, until it is closed."""
    host, port = listener.server.address
    async with connect(f"ws://{host}:{port}{listener.path}?{listener.last}") as socket:
        try:
            while True:
                yield json.loads(await socket.recv())
        except ConnectionClosed as closed:
            listener.ends.append(closed.rcvd and closed.rcvd.code)


Way = Callable[[list[Listener]], Awaitable[None]]


async def crowd(server: Server, polite: bool, way: Way) -> tuple[list[Listener], list[Listener]]:
    """Fifty of each, all of them listening, while something happens."""
    readers = [Listener(server, polite) for _ in range(CROWD)]
    talkers = [Listener(server, polite) for _ in range(CROWD)]
    tasks = [asyncio.ensure_future(one.listen(events)) for one in readers]
    tasks += [asyncio.ensure_future(one.listen(messages)) for one in talkers]
    happens = asyncio.ensure_future(way(readers + talkers))
    try:
        async with asyncio.timeout(LIMIT):
            # A listener ends by failing alone.
            await asyncio.wait([happens, *tasks], return_when=asyncio.FIRST_COMPLETED)
        for task in (happens, *tasks):
            if task.done():
                task.result()
    finally:
        for task in (happens, *tasks):
            task.cancel()
        await asyncio.wait([happens, *tasks])
    return readers, talkers


def taken(path: Path) -> dict[str, int]:
    """The last number of each stream that `send` took."""
    told = [json.loads(line) for line in path.read_text().splitlines()]
    return {each["stream"]: each["taken"] for each in told}


@pytest.mark.parametrize("polite", [True, False], ids=["told", "untold"])
def test_a_reload_under_a_crowd_loses_nothing(polite: bool, tmp_path: Path) -> None:
    """Fifty streams and fifty WebSockets: all that `send` took arrives, before a proper end."""
    file = tmp_path / "taken"
    seconds, grace = (30, "20s") if polite else (3, "300ms")
    options = ("--stream-grace", grace, "--graceful-timeout", f"{seconds}s")
    with serving(tmp_path, "numbers:app", *options, TAKEN=str(file)) as server:
        old = {worker["pid"] for worker in server.workers()}

        async def reload(listeners: list[Listener]) -> None:
            for each in listeners:
                await each.until(lambda each=each: each.last >= 3)  # type: ignore[misc]
            await asyncio.to_thread(server.ask, "reload", wait=True)
            for each in listeners:
                await each.until(lambda each=each: each.pids[-1] not in old)  # type: ignore[misc]
            await asyncio.to_thread(gone)

        def gone() -> None:
            for _ in old:
                server.event("exited", asked=True)

        readers, talkers = asyncio.run(crowd(server, polite, reload))
        heard = [float(line) for line in Path(f"{file}.left").read_text().splitlines()]
        assert len(heard) == len(old)  # the lifespan of each worker that left, and none other
        assert all(0 < left < seconds for left in heard)
        expected = taken(file)
        # The last stream of each is the one that its client left, in the middle of something.
        ended = [pair for each in (*readers, *talkers) for pair in [*each.got.items()][:-1]]
        assert ended == [(stream, expected[stream]) for stream, _ in ended]
        assert len(ended) >= 2 * CROWD
        said = {b"event: bye\n\n"} if polite else set()
        assert {end for each in readers for end in each.ends} == {b"\r\n"} | said
        assert {end for each in talkers for end in each.ends} == {1012}


def test_term_wins_over_whatever_streams_do(tmp_path: Path) -> None:
    """Also in mid-reload, over streams that are deaf to all but the end of their process."""
    options = ("--graceful-timeout", "1s")
    with serving(tmp_path, "numbers:app", *options, TAKEN=str(tmp_path / "taken")) as server:
        clients = [server.connect() for _ in range(4)]
        for client in clients:
            client.request("GET", "/deaf")
            assert client.getresponse().fp.readline()
        server.signal(signal.SIGHUP)
        server.event("retired")
        assert server.stop() == 0
        assert not server.find("killed")
        for client in clients:
            client.close()


def test_an_upload_in_progress_is_taken_to_its_end(tmp_path: Path) -> None:
    """A worker that leaves waits for the rest of a body, and answers it."""
    file = str(tmp_path / "taken")
    with serving(tmp_path, "numbers:app", workers=1, TAKEN=file) as server:
        (old,) = (worker["pid"] for worker in server.workers())
        client = server.connect()
        client.putrequest("POST", "/upload")
        client.putheader("Content-Length", "3000000")
        client.endheaders(b"x" * 1_000_000)
        reloading = server.ask("reload", wait=False)
        assert reloading
        server.event("retired", pid=old)
        server.until_draining(old)
        client.send(b"x" * 1_000_000)
        client.send(b"x" * 1_000_000)
        response = client.getresponse()
        assert response.read() == b"3000000"
        assert response.headers["connection"] == "close"
        client.close()
        server.event("exited", pid=old, asked=True)


@pytest.mark.parametrize("app", ["silent:app", "silent:wsgi"])
@pytest.mark.parametrize("way", ["reload", "stop"])
def test_a_silent_stream_of_events_ends_properly(app: str, way: str, tmp_path: Path) -> None:
    """Its head is there at once; its end is that of a whole response, and no 503."""
    options = ("--stream-grace", "100ms", "--graceful-timeout", "20s", "-w", "1")
    with serving(tmp_path, app, *options) as server:
        client = server.connect()
        client.request("GET", "/")
        response = client.getresponse()
        assert response.status == 200
        if way == "reload":
            server.ask("reload", wait=True)
        else:
            server.signal(signal.SIGTERM)
        assert response.read() == b""  # raises IncompleteRead where it was cut
        if way == "reload":
            assert server.get("/hello") == "hello"
        assert server.stop() == 0
        assert not server.find("killed")
        client.close()
