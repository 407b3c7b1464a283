"""WebSockets of real frameworks, through a real client: one contract for all of them."""

import json
from collections.abc import Iterator

import pytest
from websockets.exceptions import ConnectionClosed, ConnectionClosedOK, InvalidStatus
from websockets.sync.client import connect

from tests.conformance.serving import Server, serving

FRAMEWORKS = ("starlette", "fastapi", "quart", "litestar")
LIMIT = 30  # s


@pytest.fixture(scope="module", params=FRAMEWORKS)
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """The framework's app."""
    folder = tmp_path_factory.mktemp(request.param)
    with serving(folder, f"sockets_of_{request.param}:app") as running:
        yield running


@pytest.fixture
def url(server: Server) -> str:
    return server.url.replace("http", "ws")


def test_text_comes_back(url: str) -> None:
    with connect(f"{url}/echo") as client:
        for words in ("a", "", "é" * 1000, "x" * 200_000):
            client.send(words)
            assert client.recv(LIMIT) == words


def test_bytes_come_back_and_the_app_closes(url: str) -> None:
    with connect(f"{url}/blob") as client:
        client.send(bytes(range(256)))
        assert client.recv(LIMIT) == bytes(range(256))
        with pytest.raises(ConnectionClosedOK):
            client.recv(LIMIT)


def test_what_the_app_chooses(url: str) -> None:
    """A subprotocol, headers, and a close code with its reason."""
    with connect(f"{url}/chosen?q=a%20b", subprotocols=["a", "b"]) as client:  # type: ignore[list-item]
        assert client.subprotocol == "b"
        assert client.response is not None
        assert client.response.headers["x-a"] == "b"
        assert json.loads(client.recv(LIMIT)) == {"answer": 42, "q": "a b"}
        with pytest.raises(ConnectionClosed) as closed:
            client.recv(LIMIT)
        assert closed.value.rcvd is not None
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (4000, "bye")


@pytest.mark.parametrize(("path", "status"), [("/closed", 403), ("/denied", 401)])
def test_a_client_that_is_not_let_in(server: Server, url: str, path: str, status: int) -> None:
    if path == "/denied" and "litestar" in server.app:
        pytest.skip("Litestar has no denial response")
    with pytest.raises(InvalidStatus) as denied:
        connect(f"{url}{path}")
    assert denied.value.response.status_code == status
    if status == 401:
        assert denied.value.response.body == b"who are you"


def test_the_app_hears_why_its_client_left(server: Server, url: str) -> None:
    with connect(f"{url}/hears") as client:
        client.close(4001, "enough")
    told = server.told()
    assert told.startswith("4001")


def test_a_path_that_is_no_websocket(url: str) -> None:
    with pytest.raises(InvalidStatus) as denied:
        connect(f"{url}/nowhere")
    assert denied.value.response.status_code in (403, 404)
