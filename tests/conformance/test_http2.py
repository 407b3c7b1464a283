"""The contract once more, over HTTP/2: no app may notice what is spoken outside."""

from collections.abc import Iterator

import httpx
import pytest

from tests.conformance import test_contract as contract
from tests.conformance.serving import Server, serving

NOT_OVER_HTTP2 = {
    "test_hello_has_its_length_and_a_date",  # asks for the version, too
    "test_connection_close_is_honoured",  # there is no such header
    "test_a_stream_without_a_length_is_chunked",  # nor chunks
    "test_a_client_that_leaves_ends_its_stream",  # httpx tells nobody that it leaves a stream
    "test_many_clients_at_once",  # of its own making
}


@pytest.fixture(scope="module", params=["starlette", "django", "flask"])
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """Some of the frameworks: ASGI, ASGI with threads of its own, and WSGI."""
    folder = tmp_path_factory.mktemp(request.param)
    with serving(folder, f"with_{request.param}:app") as running:
        yield running


@pytest.fixture
def client(server: Server) -> Iterator[httpx.Client]:
    """An HTTP/2 client, by prior knowledge."""
    with httpx.Client(base_url=server.url, timeout=30, http1=False, http2=True) as session:
        yield session


for name, test in vars(contract).items():
    if name.startswith("test_") and name not in NOT_OVER_HTTP2:
        globals()[name] = test


def test_it_is_http2(client: httpx.Client) -> None:
    """All of the above would pass over HTTP/1 as well."""
    response = client.get("/")
    assert response.http_version == "HTTP/2"
    assert int(response.headers["content-length"]) == len(response.content)
    assert response.headers["date"].endswith("GMT")
