"""The PROXY header of a connection: who is believed, and what becomes of those who are not."""

import dataclasses
import os
import socket
from typing import Any

import pytest

from clusterd.config.serving import ProxySettings
from clusterd.config.settings import Config
from clusterd.worker.connection import Connection
from clusterd.worker.preamble import QUIET, Dropped, Preamble, expecting_header
from tests.unit.worker.fakes import Bench, FakeTransport, get, run

PROXY = ("192.0.2.1", 50000)  # the fake transport's peer
HEADER = b"PROXY TCP4 203.0.113.7 198.51.100.1 4711 443\r\n"
TRUSTED = ProxySettings(trusted_proxies=("192.0.2.1",), proxy_protocol=True)
STRICT = ProxySettings(proxy_protocol=True)


class Gate(Bench):
    """A bench whose connections begin with a header."""

    def __init__(self, proxy: ProxySettings = TRUSTED) -> None:
        self.scopes: list[dict[str, Any]] = []
        super().__init__(self.app, config=dataclasses.replace(Config(), proxy=proxy))

    async def app(self, scope: Any, receive: Any, send: Any) -> None:
        self.scopes.append(scope)
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    def arrive(self) -> tuple[FakeTransport, Preamble]:
        """A new connection, as a listener makes it."""
        transport = FakeTransport()
        preamble = expecting_header(self.server, None)()
        transport.protocol = preamble
        preamble.connection_made(transport)
        return transport, preamble

    def feed_to(self, transport: FakeTransport, *pieces: bytes) -> None:
        for piece in pieces:
            transport.protocol.data_received(piece)


@pytest.mark.parametrize("size", [1, 2, 7, 44, 1000])
def test_the_app_sees_whom_the_header_names(size: int) -> None:
    async def test() -> None:
        bench = Gate()
        transport, _ = bench.arrive()
        data = HEADER + get("/a") + get("/b")
        bench.feed_to(transport, *(data[at : at + size] for at in range(0, len(data), size)))
        await bench.settle()
        assert [scope["path"] for scope in bench.scopes] == ["/a", "/b"]
        for scope in bench.scopes:
            assert scope["client"] == ("203.0.113.7", 4711)
            assert scope["server"] == ("198.51.100.1", 443)
        assert transport.sent.count(b"HTTP/1.1 204 ") == 2
        assert isinstance(transport.protocol, Connection)
        assert bench.server.accepted == 2  # the bench has one of its own: none counts twice
        assert bench.server.open == 2

    run(test)


def test_a_proxy_that_speaks_for_itself_is_seen_itself() -> None:
    async def test() -> None:
        bench = Gate()
        transport, _ = bench.arrive()
        bench.feed_to(transport, b"PROXY UNKNOWN\r\n" + get("/"))
        await bench.settle()
        assert bench.scopes[0]["client"] == PROXY

    run(test)


@pytest.mark.parametrize(
    ("client", "seen"), [("203.0.113.7", ("203.0.113.7", 4711)), ("192.0.2.1", ("198.18.0.1", 0))]
)
def test_headers_are_the_clients_word_not_the_proxys(client: str, seen: object) -> None:
    """Behind a proxy that passes bytes on, X-Forwarded-For is as good as who connected to it."""

    async def test() -> None:
        bench = Gate()
        transport, _ = bench.arrive()
        header = b"PROXY TCP4 %b 198.51.100.1 4711 443\r\n" % client.encode()
        bench.feed_to(transport, header + get("/", "X-Forwarded-For: 198.18.0.1"))
        await bench.settle()
        (scope,) = bench.scopes
        assert scope["client"] == seen
        assert (b"x-forwarded-for" in dict(scope["headers"])) == (client == "192.0.2.1")

    run(test)


def test_whoever_is_not_trusted_is_dropped_at_once_without_a_word() -> None:
    async def test() -> None:
        bench = Gate(STRICT)
        transport, preamble = bench.arrive()
        assert transport.aborted
        bench.feed_to(transport, HEADER + get("/"))
        preamble.connection_lost(None)
        await bench.settle()
        assert not bench.scopes
        assert not transport.sent
        assert bench.server.open == 1

    run(test)


@pytest.mark.parametrize("data", [get("/"), b"PROXY TCP4 x\r\n", b"\x16\x03\x01", b"PROXY " * 40])
def test_what_is_no_header_drops_the_connection(data: bytes) -> None:
    async def test() -> None:
        bench = Gate()
        transport, _ = bench.arrive()
        bench.feed_to(transport, data, get("/"))
        await bench.settle()
        assert transport.aborted
        assert not transport.sent
        assert not bench.scopes

    run(test)


def test_a_header_that_does_not_come_in_time_drops_the_connection() -> None:
    async def test() -> None:
        bench = Gate()
        transport, _ = bench.arrive()
        bench.feed_to(transport, HEADER[:5])
        bench.pass_time(9)
        assert not transport.aborted
        bench.pass_time(3)
        assert transport.aborted

    run(test)


def test_while_it_waits_it_counts_and_may_be_shed() -> None:
    async def test() -> None:
        bench = Gate()
        _, preamble = bench.arrive()
        assert preamble in bench.server.connections
        assert bench.server.open == 2
        assert preamble.idle
        assert preamble.spare
        assert preamble.release() is None
        preamble.drain_begins()
        preamble.close_when_idle()
        preamble.connection_lost(None)
        assert bench.server.open == 1

    run(test)


@pytest.mark.parametrize(("header", "stays"), [(HEADER, True), (b"PROXY UNKNOWN\r\n", False)])
def test_a_connection_whose_client_came_from_a_header_stays_with_its_worker(
    header: bytes, stays: bool
) -> None:
    """A sibling would not know of it: the header is read once."""

    async def test() -> None:
        bench = Gate()
        transport, _ = bench.arrive()
        with socket.socket() as sock:
            transport._extra["socket"] = sock  # type: ignore[attr-defined]
            bench.feed_to(transport, header + get("/"))
            await bench.settle()
            assert transport.protocol.idle
            fd = transport.protocol.release()
            assert (fd is None) is stays
            assert transport.aborted is not stays
            if fd is not None:
                os.close(fd)

    run(test)


def test_those_who_were_dropped_are_told_of_once_a_second(caplog: Any) -> None:
    now = 100.0
    dropped = Dropped(lambda: now)
    for _ in range(5):
        dropped.add("why", "192.0.2.9")
    now += QUIET
    dropped.add("why", "192.0.2.9")
    assert dropped.count == 6
    assert [record.fields["connections"] for record in caplog.records] == [1, 5]
