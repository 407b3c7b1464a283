"""What any framework may expect of the server, asked of every one of them alike."""

import contextlib
import hashlib
import json
from collections.abc import Iterator

import httpx
import pytest

from tests.conformance.serving import Server

BLOCK = bytes(range(256)) * 256
MIB = 1024 * 1024
# Its views' errors, if told to.
LOGGED_BY_THE_FRAMEWORK = {"with_django:app", "with_django_wsgi:app", "with_litestar:app"}


def came_from(response: httpx.Response) -> object:
    """The connection that an answer came over."""
    return response.extensions["network_stream"]


def test_hello_has_its_length_and_a_date(client: httpx.Client) -> None:
    """A plain answer is whole, framed by its length, dated, and named after its server."""
    response = client.get("/")
    assert response.status_code == 200
    assert response.http_version == "HTTP/1.1"
    assert response.text.startswith("Hello from ")
    assert int(response.headers["content-length"]) == len(response.content)
    assert response.headers["date"].endswith("GMT")
    assert len(response.headers.get_list("server")) <= 1


def test_a_connection_is_used_again(client: httpx.Client) -> None:
    """Answers one after another come over one connection, whatever they were."""
    paths = ["/", "/empty", "/missing", "/stream", "/cookie", "/"]
    assert len({came_from(client.get(path)) for path in paths}) == 1


def test_connection_close_is_honoured(client: httpx.Client) -> None:
    """A client that wants to close is told so, and the next request comes over another one."""
    first = client.get("/", headers={"Connection": "close"})
    assert first.headers["connection"] == "close"
    assert came_from(first) != came_from(client.get("/"))


def test_head_has_the_headers_and_no_body(client: httpx.Client) -> None:
    """HEAD says how long the body would be; the connection stays usable."""
    head, get = client.head("/"), client.get("/")
    assert head.status_code == 200
    assert head.content == b""
    assert head.headers["content-length"] == get.headers["content-length"]
    assert came_from(head) == came_from(get)


def test_204_has_no_body_and_no_framing(client: httpx.Client) -> None:
    """No content means neither a length nor chunks, and the next answer is not swallowed."""
    response = client.get("/empty")
    assert response.status_code == 204
    assert response.content == b""
    assert "transfer-encoding" not in response.headers
    assert client.get("/").text.startswith("Hello")


def test_304_has_no_body(client: httpx.Client) -> None:
    """What the client has already is not sent again, and the connection stays usable."""
    first = client.get("/cached")
    assert (first.status_code, first.text) == (200, "fresh")
    again = client.get("/cached", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["etag"] == '"one"'
    assert came_from(client.get("/cached")) == came_from(first)


def test_redirects_can_be_followed(client: httpx.Client) -> None:
    """A redirect names a place that the same client can reach."""
    response = client.get("/moved", follow_redirects=True)
    assert [step.status_code for step in response.history] == [302]
    assert response.text.startswith("Hello")


def test_two_cookies_are_two_headers(client: httpx.Client) -> None:
    """Set-Cookie headers are never joined, and come back in one Cookie header."""
    first = client.get("/cookie")
    assert first.text == "none"
    assert len(first.headers.get_list("set-cookie")) == 2
    assert dict(client.cookies) == {"flavour": "oat", "size": "big"}
    assert client.get("/cookie").text == "oat"


def test_404_is_the_apps_answer(client: httpx.Client) -> None:
    """An unknown path is an answer as any other."""
    assert client.get("/missing").status_code == 404


def test_500_ends_one_request_only(client: httpx.Client, server: Server) -> None:
    """An error in the app is one 500 that shows nothing of it; its traceback is in the log."""
    response = client.get("/fail")
    assert response.status_code == 500
    assert "on purpose" not in response.text
    assert client.get("/").status_code == 200
    if server.app not in LOGGED_BY_THE_FRAMEWORK:
        server.wait_logged("RuntimeError: on purpose")


def test_json_there_and_back(client: httpx.Client) -> None:
    """A small body with a length arrives as it was sent."""
    sent = {"name": "Grüße", "numbers": [1, 2.5, None], "nested": {"deep": True}}
    assert client.post("/echo", json=sent).json() == sent


def test_a_stream_without_a_length_is_chunked(client: httpx.Client) -> None:
    """Pieces arrive in order, and the end is known without closing."""
    with client.stream("GET", "/stream") as response:
        assert response.headers["transfer-encoding"] == "chunked"
        assert "content-length" not in response.headers
        lines = list(response.iter_lines())
    assert lines == [str(number) for number in range(100)]


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
def test_a_large_upload_arrives_whole(client: httpx.Client, chunked: bool) -> None:
    """Eight megabytes, framed either way, arrive byte for byte."""
    body = BLOCK * (8 * MIB // len(BLOCK))

    def pieces() -> Iterator[bytes]:
        for start in range(0, len(body), 100_000):
            yield body[start : start + 100_000]

    response = client.post("/upload", content=pieces() if chunked else body)
    assert response.json() == {"size": len(body), "sha256": hashlib.sha256(body).hexdigest()}


def test_an_empty_upload_is_no_body(client: httpx.Client) -> None:
    """A length of nought is a body that is over at once."""
    assert client.post("/upload", content=b"").json()["size"] == 0


def test_a_large_download_arrives_whole(client: httpx.Client) -> None:
    """Sixteen megabytes read in small pieces arrive byte for byte, with their length told."""
    blocks = 16 * MIB // len(BLOCK)
    digest, size = hashlib.sha256(), 0
    with client.stream("GET", f"/download/{blocks}") as response:
        assert int(response.headers["content-length"]) == blocks * len(BLOCK)
        for piece in response.iter_bytes(7919):
            digest.update(piece)
            size += len(piece)
    assert size == blocks * len(BLOCK)
    assert digest.hexdigest() == hashlib.sha256(BLOCK * blocks).hexdigest()


def test_a_form_with_a_file(client: httpx.Client) -> None:
    """A multipart form of some size is taken apart by the framework as usual."""
    data = BLOCK * 40
    answer = client.post(
        "/form", data={"title": "a title"}, files={"file": ("blob.bin", data)}
    ).json()
    assert answer["title"] == "a title"
    assert (answer["name"], answer["size"]) == ("blob.bin", len(data))
    assert answer["sha256"] == hashlib.sha256(data).hexdigest()


def test_a_client_that_leaves_ends_its_stream(client: httpx.Client, server: Server) -> None:
    """An endless answer that nobody reads any more stops, and both workers serve on.

    The app never waits by itself, so only the server can see to that. Django drops the generator
    without closing it when it cannot send, so that there only the garbage collector would tell.
    """
    with client.stream("GET", "/endless") as response:
        next(response.iter_raw())
    if server.app != "with_django:app":
        assert server.told() == "client left"
    seen: set[str] = set()
    with contextlib.ExitStack() as stack:
        while len(seen) < 2:
            another = stack.enter_context(httpx.Client(base_url=server.url, timeout=30))
            seen.add(another.get("/pid").text)


def test_many_clients_at_once(server: Server) -> None:
    """Answers never get mixed up between connections."""
    with httpx.Client(base_url=server.url, timeout=30) as one:
        connections = [httpx.Client(base_url=server.url, timeout=30) for _ in range(20)]
        try:
            for turn in range(3):
                for number, each in enumerate(connections):
                    sent = {"turn": turn, "number": number, "text": "x" * number * 100}
                    assert json.loads(each.post("/echo", json=sent).content) == sent
        finally:
            for each in connections:
                each.close()
        assert one.get("/").status_code == 200
