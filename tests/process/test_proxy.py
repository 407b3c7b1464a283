"""What a client's words about itself are worth, for real, and the log of who came."""

import contextlib
import http.client
import json
import os
import socket
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.authority import Authority
from tests.support.proxies import CLIENT, LIMIT, ask
from tests.support.server import running, serving

FORGED = {"X-Forwarded-For": "198.51.100.66", "X-Forwarded-Proto": "https"}
HEADER = b"PROXY TCP4 203.0.113.7 198.51.100.1 4711 443\r\n"


def told(sock: socket.socket, path: str = "/", **headers: str) -> tuple[dict[str, Any], bool]:
    """What the app saw of a request over this connection, and whether that is kept."""
    lines = [f"GET {path} HTTP/1.1", "Host: a", *(f"{k}: {v}" for k, v in headers.items()), "", ""]
    sock.sendall("\r\n".join(lines).encode())
    answer = http.client.HTTPResponse(sock)
    answer.begin()
    seen: dict[str, Any] = json.loads(answer.read())
    return seen, not answer.will_close


def test_a_peer_that_is_not_trusted_is_not_believed(tmp_path: Path) -> None:
    with serving(tmp_path, "recorder:app", workers=1) as server:
        seen = ask(server.address[1], "/", FORGED)
        assert seen["client"][0] == CLIENT
        assert seen["scheme"] == "http"
        assert not {name for name in seen["headers"] if "forwarded" in name}
        ask(server.address[1], "/", FORGED)
        assert server.log().count("name it with --trusted-proxies") == 1


def test_a_network_may_be_trusted(tmp_path: Path) -> None:
    options = ("--trusted-proxies", "127.0.0.0/29", "--proxy-headers", "forwarded")
    with serving(tmp_path, "recorder:app", *options, workers=1) as server:
        said = {"Forwarded": 'for=198.51.100.66, for="[2001:db8::7]:4711";proto=https'}
        seen = ask(server.address[1], "/", {**FORGED, **said})
        assert seen["client"] == ["2001:db8::7", 4711]
        assert seen["scheme"] == "https"
        many = {"Forwarded": "for=192.0.2.7" + ", for=127.0.0.2" * 1000}
        assert ask(server.address[1], "/", many)["client"] is None


def test_whoever_is_at_a_unix_socket_is_trusted(tmp_path: Path) -> None:
    short = Path(os.path.relpath(tmp_path))
    with (
        serving(tmp_path, "recorder:app", "-b", "unix:web.sock", workers=1),
        socket.socket(socket.AF_UNIX) as sock,
    ):
        sock.settimeout(LIMIT)
        sock.connect(str(short / "web.sock"))
        seen, _ = told(sock)
        assert seen["client"] is None
        seen, _ = told(sock, **FORGED)
        assert seen["client"] == ["198.51.100.66", 0]
        assert seen["scheme"] == "https"


def test_paths_begin_with_the_root(tmp_path: Path) -> None:
    with serving(tmp_path, "recorder:app", "--root-path", "/shop/", workers=1) as server:
        for path, wanted in {
            "/a": "/shop/a",
            "/shop/a": "/shop/a",
            "/shops": "/shop/shops",
        }.items():
            seen = ask(server.address[1], path)
            assert (seen["path"], seen["root_path"]) == (wanted, "/shop")


def test_a_connection_with_a_header_keeps_its_client_through_a_reload(tmp_path: Path) -> None:
    """Whoever takes its place could not know of the client: it is answered by the one that does."""
    with (
        serving(tmp_path, "recorder:app", "--proxy-protocol", workers=1) as server,
        socket.create_connection(server.address, LIMIT) as sock,
    ):
        sock.sendall(HEADER)
        seen, kept = told(sock)
        assert seen["client"] == ["203.0.113.7", 4711]
        assert kept
        server.ask("reload")
        server.event("retired")
        while kept:  # it may have been told a moment later than we
            seen, kept = told(sock)
            assert seen["client"] == ["203.0.113.7", 4711]


def test_tls_comes_after_the_header(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    certificate, key = authority.issue("server")
    options = ("--tls-cert", certificate, "--tls-key", key, "--proxy-protocol")
    with serving(tmp_path, "recorder:app", *options, workers=1) as server:
        with socket.create_connection(server.address, LIMIT) as sock:
            sock.sendall(HEADER)
            with authority.client().wrap_socket(sock, server_hostname="localhost") as tls:
                seen, _ = told(tls, **FORGED)
        assert seen["client"] == ["203.0.113.7", 4711]
        assert seen["scheme"] == "https"
        assert not {name for name, _ in seen["headers"] if "forwarded" in name}


@pytest.mark.parametrize("style", ["common", "combined", "json"])
def test_the_access_log(tmp_path: Path, style: str) -> None:
    options = ("--access-log", "--access-log-format", style, "--log-file", "log")
    with serving(tmp_path, "recorder:app", *options, workers=1) as server:
        seen = ask(server.address[1], "/a?b", {"User-Agent": 'x"y'})
    name = seen["headers"]["x-request-id"]
    (line,) = [line for line in (tmp_path / "log").read_text().splitlines() if name in line]
    assert CLIENT in line
    if style == "json":
        assert json.loads(line)["target"] == "/a?b"
    else:
        assert '"GET /a?b HTTP/1.1" 200 ' in line
        assert ('"x\\"y"' in line) == (style == "combined")


def test_a_log_that_nobody_reads_keeps_nobody_waiting(tmp_path: Path) -> None:
    """Its pipe is full after some hundred lines; each is counted, and that is told afterwards."""
    reader, log = os.pipe()
    os.set_blocking(reader, False)
    options = ("--access-log", "--log-file", f"/proc/self/fd/{log}", "--log-level", "warning")
    path = "/" + "a" * 200
    with (
        os.fdopen(reader, "rb", buffering=0) as pipe,
        os.fdopen(log, "wb", buffering=0),
        running(tmp_path, "recorder:app", "-w", "1", *options, keep=(log,)) as server,
        contextlib.closing(server.ready().connect()) as client,
    ):
        for _ in range(900):
            server.get(path, client)
        while pipe.read(65536):
            pass
        for _ in range(2):
            server.get(path, client)
        rest = b""
        while b"lines of the access log were lost" not in rest:
            rest += pipe.read(65536) or b""


@pytest.mark.parametrize("version", ["1.1", "2"])
@pytest.mark.parametrize("trusted", [True, False])
def test_a_request_has_one_name_in_every_protocol(
    tmp_path: Path, version: str, trusted: bool
) -> None:
    """A proxy's, if it is trusted, else ours; the app and the log agree on it."""
    options: tuple[str, ...] = ("--access-log", "--log-file", "log", "--log-format", "json")
    options += () if trusted else ("--trusted-proxies", "10.0.0.1")
    with serving(tmp_path, "recorder:app", *options, workers=1) as server:
        transport = httpx.HTTPTransport(http1=version == "1.1", http2=version == "2")
        with httpx.Client(transport=transport, timeout=LIMIT) as client:
            given = client.get(server.url, headers={"X-Request-ID": "proxys"}).json()
            made = client.get(server.url).json()
    log = (tmp_path / "log").read_text()
    for seen in (given, made):
        (name,) = [value for key, value in seen["headers"] if key == "x-request-id"]
        line = json.loads(next(line for line in log.splitlines() if name in line))
        assert (line["http"], line["status"], line["request_id"]) == (version, 200, name)
        assert (name == "proxys") == (trusted and seen is given)
