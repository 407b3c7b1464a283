"""Real clients beside httpx: curl, requests and aiohttp, each with what it does in its own way."""

import asyncio
import hashlib
import json
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import pytest
import requests

from tests.conformance.serving import FILE, Server, serving

DIGEST = hashlib.sha256(FILE).hexdigest()
NUMBERS = [str(number) for number in range(100)]
ECHOED = {"name": "Grüße", "list": [1, None, 2.5]}
curl_only = pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl here")


@pytest.fixture(scope="module", params=["starlette"])
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("clients"), f"with_{request.param}:app") as running:
        yield running


# --- curl


def curl(*argv: str) -> str:
    command = ["curl", "--silent", "--show-error", "--fail", "--max-time", "30", *argv]
    done = subprocess.run(command, capture_output=True, timeout=40, check=False)
    assert done.returncode == 0, (done.stderr, done.stdout[:200])
    return done.stdout.decode()


@curl_only
def test_curl_keeps_its_connection(server: Server) -> None:
    """Four answers of four kinds over one connection."""
    urls = [f"{server.url}{path}" for path in ("/", "/stream", "/empty", "/pid")]
    told = curl("--write-out", "|%{num_connects} %{http_version}|", *urls)
    assert told.split("|")[1::2] == ["1 1.1", "0 1.1", "0 1.1", "0 1.1"]


@curl_only
def test_curl_waits_for_100_continue(server: Server, tmp_path: Path) -> None:
    """A large upload is announced, sent once that is welcome, and arrives whole."""
    (tmp_path / "file").write_bytes(FILE * 2)
    options = ("--include", "--header", "Expect: 100-continue", "--expect100-timeout", "20")
    data = f"@{tmp_path / 'file'}"
    said = curl(*options, "--data-binary", data, f"{server.url}/upload")
    assert said.startswith("HTTP/1.1 100 Continue")
    assert hashlib.sha256(FILE * 2).hexdigest() in said


@curl_only
def test_curl_uploads_in_chunks_and_as_a_form(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(FILE)
    chunked = ("--header", "Transfer-Encoding: chunked", "--request", "POST")
    upload = curl(*chunked, "--upload-file", f"{tmp_path / 'file'}", f"{server.url}/upload")
    assert json.loads(upload) == {"size": len(FILE), "sha256": DIGEST}
    fields = ("--form", "title=a title", "--form", f"file=@{tmp_path / 'file'}")
    form = json.loads(curl(*fields, f"{server.url}/form"))
    assert (form["title"], form["size"], form["sha256"]) == ("a title", len(FILE), DIGEST)


@curl_only
def test_curl_resumes_a_download(server: Server, tmp_path: Path) -> None:
    (tmp_path / "part").write_bytes(FILE[:70_000])
    output = ("--continue-at", "-", "--output", f"{tmp_path / 'part'}")
    curl(*output, f"{server.url}/file")
    assert (tmp_path / "part").read_bytes() == FILE


@curl_only
def test_curl_sees_early_hints(server: Server) -> None:
    """Through Starlette's own call for them."""
    said = curl("--include", f"{server.url}/hinted")
    hints, answer, body = said.split("\r\n\r\n")
    assert hints == "HTTP/1.1 103 Early Hints\r\nlink: </style.css>; rel=preload; as=style"
    assert answer.startswith("HTTP/1.1 200 OK")
    assert body == "styled"


@curl_only
def test_curl_speaks_http_1_0(server: Server) -> None:
    """A stream without chunks, whose end is the connection's."""
    assert curl("--http1.0", f"{server.url}/stream").split() == NUMBERS


# --- requests


def test_requests(server: Server) -> None:
    """Answers, streams, uploads and forms in one session."""
    with requests.Session() as session:
        assert session.post(f"{server.url}/echo", json=ECHOED).json() == ECHOED
        with session.get(f"{server.url}/stream", stream=True) as response:
            assert list(response.iter_lines(decode_unicode=True)) == NUMBERS
        pieces = (FILE[start : start + 50_000] for start in range(0, len(FILE), 50_000))
        answer = session.post(f"{server.url}/upload", data=pieces).json()
        assert answer == {"size": len(FILE), "sha256": DIGEST}
        form = session.post(
            f"{server.url}/form", data={"title": "a"}, files={"file": ("blob", FILE)}
        )
        assert form.json()["sha256"] == DIGEST
        assert session.get(f"{server.url}/file").content == FILE
        assert session.get(f"{server.url}/cookie").text == "none"
        assert session.get(f"{server.url}/cookie").text == "oat"
        assert session.get(f"{server.url}/moved").text.startswith("Hello")
        assert session.head(f"{server.url}/").headers["content-length"]


# --- aiohttp


def test_aiohttp(server: Server) -> None:
    """The same, and many requests at once."""

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(FILE), 50_000):
            yield FILE[start : start + 50_000]

    async def ask(session: aiohttp.ClientSession, number: int) -> bool:
        async with session.post("/echo", json=[number] * number) as response:
            found: object = await response.json()
            return found == [number] * number

    async def main() -> None:
        async with aiohttp.ClientSession(server.url) as session:
            assert all(await asyncio.gather(*(ask(session, number) for number in range(100))))
            async with session.get("/stream") as response:
                assert [line.decode().strip() async for line in response.content] == NUMBERS
            async with session.post("/upload", data=pieces()) as response:
                assert (await response.json())["sha256"] == DIGEST
            form = aiohttp.FormData({"title": "a"})
            form.add_field("file", FILE, filename="blob")
            async with session.post("/form", data=form) as response:
                assert (await response.json())["sha256"] == DIGEST
            async with session.get("/file") as response:
                assert await response.read() == FILE
            async with session.post("/upload", data=FILE, expect100=True) as response:
                assert (await response.json())["sha256"] == DIGEST

    asyncio.run(main())
