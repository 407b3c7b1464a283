"""Behind HAProxy: requests it understands, bytes it passes on with a PROXY header, and nothing
smuggled."""

import contextlib
import http.client
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from websockets.sync.client import connect

from tests.support.proxies import (
    CLIENT,
    LIMIT,
    Record,
    ask,
    doors,
    haproxy,
    needs_haproxy,
    port_of,
    send_raw,
)
from tests.support.server import Server, serving
from tests.support.smuggling import ATTACKS, Attack, check_nothing_came_through

pytestmark = needs_haproxy

WAYS = ("usual", "lenient", "line", "block")
SECTIONS = """
frontend usual
    mode http
    bind fd@{usual}
    option forwardfor
    http-request set-header X-Forwarded-Proto http
    default_backend requests
frontend lenient
    mode http
    bind fd@{lenient}
    option accept-invalid-http-request
    option forwardfor
    default_backend requests
frontend line
    mode tcp
    bind fd@{line}
    default_backend line
frontend block
    mode tcp
    bind fd@{block}
    default_backend block
backend requests
    mode http
    http-reuse always
    option accept-invalid-http-response
    server app {requests}
backend line
    mode tcp
    server app {bytes} send-proxy
backend block
    mode tcp
    server app {bytes} send-proxy-v2 proxy-v2-options crc32c,unique-id
"""


@dataclass
class Stage:
    """A server that records, one that wants PROXY headers, and the ports of the ways to them."""

    record: Record
    bare: Server
    ports: dict[str, int]


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    place = tmp_path_factory.mktemp("haproxy")
    record = Record(place)
    for name in ("one", "two"):
        (place / name).mkdir()
    with contextlib.ExitStack() as stack:
        enter = stack.enter_context
        app = "recorder:app"
        server = enter(serving(place / "one", app, workers=1, RECORD=str(record.path)))
        bare = enter(serving(place / "two", app, "--proxy-protocol", workers=1))
        taken = dict(zip(WAYS, enter(doors(len(WAYS))), strict=True))
        addresses = {
            "requests": "{}:{}".format(*server.address),
            "bytes": "{}:{}".format(*bare.address),
        }
        sections = SECTIONS.format(
            **{name: door.fileno() for name, door in taken.items()}, **addresses
        )
        enter(haproxy(place / "haproxy", sections, list(taken.values())))
        yield Stage(record, bare, {name: port_of(door) for name, door in taken.items()})


@pytest.mark.parametrize("way", WAYS)
def test_the_app_sees_the_real_client(stage: Stage, way: str) -> None:
    seen = ask(stage.ports[way], "/", {"Host": "shop.example", "X-Forwarded-For": "198.51.100.66"})
    assert seen["client"][0] == CLIENT
    assert seen["scheme"] == "http"
    assert seen["headers"]["host"] == "shop.example"


@pytest.mark.parametrize("way", ["line", "block"])
def test_the_address_that_the_client_asked_for_is_the_proxys(stage: Stage, way: str) -> None:
    """And its headers, which HAProxy has not looked at, are not believed."""
    forged = {"X-Forwarded-For": "198.51.100.66", "X-Forwarded-Proto": "https"}
    seen = ask(stage.ports[way], "/", forged)
    assert seen["server"] == ["127.0.0.1", stage.ports[way]]
    assert seen["scheme"] == "http"
    assert not forged.keys() & {name.title() for name in seen["headers"]}


@pytest.mark.parametrize("way", ["line", "block"])
def test_a_client_that_sends_a_header_of_its_own_is_refused(stage: Stage, way: str) -> None:
    forged = b"PROXY TCP4 198.51.100.66 127.0.0.1 1 1\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"
    assert send_raw(stage.ports[way], forged).startswith(b"HTTP/1.1 501 ")


def test_without_a_header_there_is_no_answer(stage: Stage) -> None:
    host, port = stage.bare.address
    client = http.client.HTTPConnection(host, port, timeout=LIMIT)
    with contextlib.closing(client), pytest.raises(ConnectionError):
        client.request("GET", "/")
        client.getresponse()
    assert "were dropped: there is no PROXY header" in stage.bare.log()


def test_from_a_peer_that_is_not_trusted_there_is_none_either(stage: Stage) -> None:
    _, port = stage.bare.address
    header = b"PROXY TCP4 198.51.100.66 127.0.0.1 1 1\r\n"
    assert send_raw(port, header + b"GET / HTTP/1.1\r\nHost: a\r\n\r\n") == b""


def test_bodies_come_through(stage: Stage) -> None:
    for port in stage.ports.values():
        assert ask(port, "/", method="POST", body=b"a" * 100_000)["body"] == "a" * 100_000
        pieces = iter([b"one", b"two"])
        assert ask(port, "/", method="POST", body=pieces)["body"] == "onetwo"


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
@pytest.mark.parametrize("way", ["usual", "lenient"])
def test_no_second_request_is_smuggled(stage: Stage, way: str, attack: Attack) -> None:
    check_nothing_came_through(attack, stage.ports[way], stage.record)


def test_over_http2_websockets_need_to_be_told_apart(tmp_path: Path) -> None:
    """`ws h1` beside `proto h2`, as README says: clusterd has no WebSockets over HTTP/2."""
    sections = """
frontend all
    mode http
    bind fd@{door}
    default_backend app
backend app
    mode http
    server app {address} proto h2 ws h1
"""
    # With one access log line for each request, which says what was spoken.
    options = ("--access-log", "--access-log-format", "common", "--log-file", "log")
    with serving(tmp_path, "sockets:app", *options, workers=1) as server, doors(1) as (door,):
        address = "{}:{}".format(*server.address)
        with haproxy(
            tmp_path / "haproxy", sections.format(door=door.fileno(), address=address), [door]
        ):
            port = port_of(door)
            client = http.client.HTTPConnection("127.0.0.1", port, timeout=LIMIT)
            client.request("GET", "/")
            assert client.getresponse().read() == b"here"
            client.close()
            with connect(f"ws://127.0.0.1:{port}/echo") as socket:
                socket.send("through")
                assert socket.recv(LIMIT) == "through"
    lines = [line for line in (tmp_path / "log").read_text().splitlines() if '"GET /' in line]
    assert ["HTTP/2" in line for line in lines] == [True, False]
