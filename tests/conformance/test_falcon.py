"""What Falcon has of its own: streams that it hands to wsgi.file_wrapper, media, errors."""

from collections.abc import Iterator

import pytest
import requests

from tests.conformance.serving import FILE, Server, serving


@pytest.fixture(scope="module", params=["threads", "inline"])
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """Falcon in threads as by default, and in the loop's own thread."""
    folder = tmp_path_factory.mktemp(request.param)
    options = ["--threads", "1"] if request.param == "inline" else []
    with serving(folder, "with_falcon:app", *options) as running:
        yield running


def test_a_file_comes_whole(server: Server) -> None:
    with requests.Session() as session:
        for _ in range(2):
            response = session.get(f"{server.url}/file")
            assert response.content == FILE
        assert session.head(f"{server.url}/").content == b""


def test_media_that_is_none_is_the_clients_fault(server: Server) -> None:
    with requests.Session() as session:
        headers = {"Content-Type": "application/json"}
        assert session.post(f"{server.url}/echo", data="{", headers=headers).status_code == 400
        assert session.post(f"{server.url}/echo", json={"a": "€"}).json() == {"a": "€"}
        assert session.delete(f"{server.url}/echo").status_code == 405
