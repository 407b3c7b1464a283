"""What Starlette has of its own: typed routes, lifespan state, background tasks, broken uploads."""

import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.conformance.serving import Server, serving


@pytest.fixture(scope="module", params=["starlette"])
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """Starlette alone."""
    with serving(tmp_path_factory.mktemp("alone"), f"with_{request.param}:app") as running:
        yield running


def test_path_and_query_are_decoded_once(client: httpx.Client) -> None:
    """Path parameters and a query with escapes reach the app as they were meant."""
    answer = client.get("/item/7", params={"q": "a b&c=d%", "sign": "€"}).json()
    assert answer == {"id": 7, "query": {"q": "a b&c=d%", "sign": "€"}}


def test_lifespan_state_reaches_requests(client: httpx.Client) -> None:
    """What the app's lifespan yields is in every request's state."""
    assert client.get("/state").json() == {"answer": 42}


def test_a_background_task_runs_after_the_answer(client: httpx.Client, server: Server) -> None:
    """The answer does not wait for it, and it is not lost."""
    response = client.post("/later")
    assert (response.status_code, response.text) == (202, "soon")
    assert server.told() == "done"


def test_an_upload_that_breaks_off_is_told(client: httpx.Client, server: Server) -> None:
    """The app hears `http.disconnect` instead of half a body, and the connection is closed.

    The client closes its sending side only, so that it sees the server close the other.
    """
    url = httpx.URL(server.url)
    with socket.create_connection((url.host, url.port or 80)) as sock:
        sock.sendall(b"POST /half HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nonly this")
        sock.shutdown(socket.SHUT_WR)
        while sock.recv(65536):
            pass
    assert server.told() == "upload broke off"
    assert client.get("/").status_code == 200


def test_every_workers_lifespan_ends_at_a_stop(tmp_path: Path) -> None:
    """A stop lets each worker's app shut down in order."""
    with serving(tmp_path, "with_starlette:app", workers=2) as running:
        running.process.terminate()
        assert [running.told(), running.told()] == ["lifespan over", "lifespan over"]
