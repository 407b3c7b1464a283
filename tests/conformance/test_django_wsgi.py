"""What Django has of its own as a WSGI app: file responses, chunked uploads, request signals."""

from collections.abc import Iterator

import pytest
import requests

from tests.conformance.serving import FILE, Server, serving


@pytest.fixture(scope="module", params=["threads", "inline"])
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """Django in threads as by default, and in the loop's own thread."""
    folder = tmp_path_factory.mktemp(request.param)
    options = ["--threads", "1"] if request.param == "inline" else []
    with serving(folder, "with_django_wsgi:app", *options) as running:
        yield running


def test_a_file_response_is_sent_and_closed(server: Server) -> None:
    with requests.Session() as session:
        for _ in range(2):
            response = session.get(f"{server.url}/file")
            assert response.content == FILE
            assert server.told() == "file closed"


def test_a_chunked_upload_arrives(server: Server) -> None:
    """Django reads as much as CONTENT_LENGTH says: a body in chunks has one by then."""
    response = requests.post(f"{server.url}/upload", data=iter([b"a" * 1000, b"b" * 1000]))
    assert response.json()["size"] == 2000


def test_a_form_from_requests(server: Server) -> None:
    data = bytes(range(256)) * 20000
    response = requests.post(
        f"{server.url}/form", data={"title": "Grüße"}, files={"file": ("blob.bin", data)}
    )
    assert response.json()["title"] == "Grüße"
    assert response.json()["size"] == len(data)


def test_an_answer_without_a_length(server: Server) -> None:
    with requests.get(f"{server.url}/stream", stream=True) as response:
        assert response.headers["transfer-encoding"] == "chunked"
        assert [int(line) for line in response.iter_lines()] == list(range(100))
