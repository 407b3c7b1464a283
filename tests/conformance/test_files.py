"""Files and large bodies through the ASGI frameworks: whole, in ranges, and in little memory."""

import hashlib
import http.client
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.conformance.serving import FILE, Server, serving

MIB = 1024 * 1024
BLOCK = bytes(range(256)) * 256
ROOM = 64 * MIB  # by which a worker may grow, whatever passes through it
BOUNDARY = "a-boundary"


FRAMEWORKS = ["starlette", "fastapi", "django", "litestar", "quart"]


@pytest.fixture(scope="module", params=[*FRAMEWORKS, "starlette --file-extensions"])
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """The framework's app on one worker, so that it is known who grows."""
    name, *options = request.param.split()
    folder = tmp_path_factory.mktemp(name)
    with serving(folder, f"with_{name}:app", *options, workers=1) as running:
        yield running


def test_a_file_arrives_whole(client: httpx.Client) -> None:
    """By `pathsend` or in pieces, as the framework likes; the connection serves on."""
    for _ in range(2):
        response = client.get("/file")
        assert response.status_code == 200
        assert response.content == FILE
        assert int(response.headers["content-length"]) == len(FILE)
    head = client.head("/file")
    assert head.status_code in (200, 405)  # not all offer HEAD where they offer GET
    assert head.content == b""


def test_a_range_of_a_file(client: httpx.Client, server: Server) -> None:
    """Frameworks that know ranges send just that; others may send everything."""
    response = client.get("/file", headers={"Range": "bytes=1000-1999"})
    if server.app in ("with_django:app", "with_litestar:app"):
        assert response.status_code == 200
        assert response.content == FILE
    else:
        assert response.status_code == 206
        assert response.headers["content-range"] == f"bytes 1000-1999/{len(FILE)}"
        assert response.content == FILE[1000:2000]


def peak(server: Server) -> int:
    """The most bytes of memory that the worker ever held (`VmHWM`, proc(5))."""
    pid = httpx.get(f"{server.url}/pid").text
    (found,) = re.findall(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(found) * 1024


def pieces(size: int, around: tuple[bytes, bytes] = (b"", b"")) -> Iterator[bytes]:
    yield around[0]
    for _ in range(size // len(BLOCK)):
        yield BLOCK
    yield around[1]


def send(server: Server, path: str, body: Iterator[bytes], **headers: str) -> bytes:
    """Post a large body, and return the answer."""
    url = httpx.URL(server.url)
    client = http.client.HTTPConnection(url.host, url.port, timeout=60)
    try:
        client.request("POST", path, body, headers)
        response = client.getresponse()
        assert response.status == 200
        return response.read()
    finally:
        client.close()


def send_form(server: Server, size: int) -> bytes:
    """A form with a title and a file of that size."""
    line = f"--{BOUNDARY}\r\nContent-Disposition: form-data; name="
    before = f'{line}"title"\r\n\r\nlarge\r\n{line}"file"; filename="blob"\r\n\r\n'.encode()
    after = f"\r\n--{BOUNDARY}--\r\n".encode()
    kind = f"multipart/form-data; boundary={BOUNDARY}"
    length = str(len(before) + size + len(after))
    body = pieces(size, (before, after))
    return send(server, "/form", body, **{"Content-Type": kind, "Content-Length": length})


def upload(server: Server, size: int) -> bytes:
    """A body of that size, in chunks."""
    return send(server, "/upload", pieces(size))


def digest(size: int) -> bytes:
    summed = hashlib.sha256()
    for piece in pieces(size):
        summed.update(piece)
    return summed.hexdigest().encode()


def download(server: Server, size: int) -> int:
    """How many bytes of an answer of that size came."""
    url = httpx.URL(server.url)
    client = http.client.HTTPConnection(url.host, url.port, timeout=60)
    client.request("GET", f"/download/{size // len(BLOCK)}")
    response = client.getresponse()
    buffer, came = bytearray(MIB), 0
    while count := response.readinto(buffer):
        came += count
    client.close()
    return came


SPOOLING = pytest.mark.parametrize("server", ["starlette", "django"], indirect=True)


@SPOOLING
def test_a_large_form_takes_little_memory(server: Server) -> None:
    """128 MiB go through to the framework's temporary file."""
    size = 128 * MIB
    before = peak(server)
    assert digest(size) in send_form(server, size)
    assert peak(server) - before < ROOM


@SPOOLING
def test_a_large_body_takes_little_memory(server: Server) -> None:
    """128 MiB in, and out again."""
    size = 128 * MIB
    before = peak(server)
    assert digest(size) in upload(server, size)
    assert download(server, size) == size
    assert peak(server) - before < ROOM


@SPOOLING
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_gibibyte_each_way_takes_little_memory(server: Server) -> None:
    """As a body in chunks, and as an answer."""
    size = 1024 * MIB
    before = peak(server)
    assert digest(size) in upload(server, size)
    assert download(server, size) == size
    assert peak(server) - before < ROOM
