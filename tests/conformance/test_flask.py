"""What Flask has of its own: files, URLs behind a prefix, clean-up; asked by `requests`, too."""

import hashlib
from collections.abc import Iterator

import httpx
import pytest
import requests

from tests.conformance.serving import FILE, Server, serving

BLOCK = bytes(range(256)) * 256


@pytest.fixture(scope="module", params=["threads", "inline"])
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """Flask in threads as by default, and in the loop's own thread."""
    folder = tmp_path_factory.mktemp(request.param)
    options = ["--root-path", "/shop"]
    if request.param == "inline":
        options += ["--threads", "1"]
    with serving(folder, "with_flask:app", *options) as running:
        yield running


@pytest.fixture
def session() -> Iterator[requests.Session]:
    with requests.Session() as made:
        yield made


def test_a_file_comes_whole(server: Server, session: requests.Session) -> None:
    """`send_file`, through wsgi.file_wrapper; the connection stays usable."""
    for _ in range(2):
        response = session.get(f"{server.url}/file")
        assert response.content == FILE
        assert response.headers["content-length"] == str(len(FILE))
    head = session.head(f"{server.url}/file")
    assert head.headers["content-length"] == str(len(FILE))
    assert head.content == b""


def test_a_range_of_a_file(server: Server, session: requests.Session) -> None:
    response = session.get(f"{server.url}/file", headers={"Range": "bytes=100000-200000"})
    assert response.status_code == 206
    assert response.content == FILE[100000:200001]
    assert response.headers["content-range"] == f"bytes 100000-200000/{len(FILE)}"


@pytest.mark.parametrize("prefix", ["", "/shop"])
def test_urls_are_made_behind_a_prefix(
    server: Server, session: requests.Session, prefix: str
) -> None:
    """Whether the proxy in front leaves the prefix in place or not."""
    told = session.get(f"{server.url}{prefix}/url", params={"a": "b c"}).json()
    assert told == {
        "url": f"{server.url}/shop/url?a=b+c",
        "root": "/shop",
        "args": {"a": "b c"},
    }


def test_what_the_environ_tells(server: Server, session: requests.Session) -> None:
    environ = session.get(
        f"{server.url}/environ",
        headers={"Proxy": "http://evil", "X_Forwarded_For": "evil", "X-Genuine": "yes"},
    ).json()
    assert environ["REMOTE_ADDR"] == "127.0.0.1"
    assert f"http://{environ['SERVER_NAME']}:{environ['SERVER_PORT']}" == server.url
    assert environ["SERVER_PROTOCOL"] == "HTTP/1.1"
    assert environ["HTTP_X_GENUINE"] == "yes"
    assert "HTTP_PROXY" not in environ
    assert "evil" not in environ.values()
    assert environ["wsgi.multiprocess"] is True


def test_the_answer_does_not_wait_for_clean_up(server: Server, session: requests.Session) -> None:
    """What the app does in `close` runs, and comes after the answer is complete."""
    response = session.post(f"{server.url}/cleanup")
    assert (response.status_code, response.text) == (202, "soon")
    assert server.told() == "done"


@pytest.mark.parametrize("chunked", [False, True])
def test_uploads_and_files_over_http2(server: Server, chunked: bool) -> None:
    """More than a window, so that the client waits until what it sent was taken."""
    body = BLOCK * 48
    with httpx.Client(http1=False, http2=True, base_url=server.url, timeout=30) as client:
        told = client.post("/upload", content=iter([body]) if chunked else body)
        assert told.http_version == "HTTP/2"
        assert told.json() == {"size": len(body), "sha256": hashlib.sha256(body).hexdigest()}
        assert client.get("/file").content == FILE
        assert client.get("/environ").json()["SERVER_PROTOCOL"] == "HTTP/2"
        lines = client.get("/stream").text.split()
        assert [int(line) for line in lines] == list(range(100))


def test_an_upload_in_pieces(server: Server, session: requests.Session) -> None:
    def pieces() -> Iterator[bytes]:
        for _ in range(48):
            yield BLOCK

    told = session.post(f"{server.url}/upload", data=pieces()).json()
    assert told == {"size": len(BLOCK) * 48, "sha256": hashlib.sha256(BLOCK * 48).hexdigest()}
