"""HTTP/2, for real: real clients over TLS and without, floods, and reloads that lose nothing."""

import contextlib
import shutil
import signal
import socket
import ssl
import subprocess
from pathlib import Path

import httpx
import pytest

from tests.support import http2 as frames
from tests.support.authority import Authority
from tests.support.gate import gate
from tests.support.http2 import START, Reading, get
from tests.support.http2_client import Load
from tests.support.server import LIMIT, Server, running, serving

needs_h2load = pytest.mark.skipif(
    shutil.which("h2load") is None, reason="h2load is not installed (nghttp2-client)"
)
PREFACE_REFUSED = b"HTTP/1.1 505 "


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def pair(authority: Authority) -> tuple[str, ...]:
    authority.issue("server")
    return ("--tls-cert", "server.pem", "--tls-key", "server.key")


def curl(*arguments: str) -> str:
    return subprocess.run(
        ["curl", "-sS", "--max-time", str(LIMIT), *arguments],
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def h2load(server: Server, scheme: str) -> str:
    """100 streams at once on each of two connections, and what h2load says of the outcome."""
    url = f"{scheme}://localhost:{server.address[1]}/"
    argv = ["h2load", "-n", "2000", "-c", "2", "-m", "100", url]
    return subprocess.run(argv, capture_output=True, text=True, check=True, timeout=LIMIT).stdout


class Raw:
    """A connection whose frames a test makes."""

    def __init__(self, server: Server, *pieces: bytes) -> None:
        self.socket = socket.create_connection(server.address, timeout=LIMIT)
        self.reading = Reading()
        self.socket.sendall(START + b"".join(pieces))

    def read_until(self, *streams: int) -> Reading:
        """All that comes until these streams have ended, or the connection has."""
        while not set(streams) <= self.reading.ended or not streams:
            try:
                data = self.socket.recv(65536)
            except ConnectionResetError:
                break
            if not data:
                break
            self.reading.take(data)
        return self.reading

    def __enter__(self) -> "Raw":
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()


# --- clients


def test_clients_by_prior_knowledge(tmp_path: Path) -> None:
    """curl and httpx; beside them HTTP/1 on the same port."""
    with serving(tmp_path) as server:
        said = curl("--http2-prior-knowledge", "-w", " %{http_version}", server.url)
        assert said.endswith(" 2")
        with httpx.Client(http1=False, http2=True) as client:
            answers = [client.get(server.url) for _ in range(3)]
        assert [answer.http_version for answer in answers] == ["HTTP/2"] * 3
        assert httpx.get(server.url).http_version == "HTTP/1.1"
        said = curl("--http2", "-w", " %{http_version}", server.url)  # Upgrade: h2c, not offered
        assert said.endswith(" 1.1")


def test_clients_by_alpn(authority: Authority) -> None:
    with serving(authority.place, "secret:app", *pair(authority)) as server:
        url = f"https://localhost:{server.address[1]}/"
        said = curl("--cacert", str(authority.path), "-w", " %{http_version}", url)
        assert said.endswith(" 2")
        assert '"scheme": "https"' in said
        with httpx.Client(http2=True, verify=authority.client()) as client:
            assert client.get(url).http_version == "HTTP/2"
        with httpx.Client(verify=authority.client()) as client:
            assert client.get(url).http_version == "HTTP/1.1"


@needs_h2load
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_h2load_with_a_hundred_streams(authority: Authority, scheme: str) -> None:
    options = pair(authority) if scheme == "https" else ()
    with serving(authority.place, "tell:app", *options) as server:
        said = h2load(server, scheme)
    assert "2000 succeeded, 0 failed, 0 errored, 0 timeout" in said
    assert "2000 2xx" in said


def test_it_can_be_off(authority: Authority) -> None:
    """Then neither ALPN nor the preface finds it."""
    with serving(authority.place, "secret:app", *pair(authority), "--http2", "off") as server:
        url = f"https://localhost:{server.address[1]}/"
        said = curl("--cacert", str(authority.path), "-w", " %{http_version}", url)
        assert said.endswith(" 1.1")
    with (
        serving(authority.place, "tell:app", "--http2", "off") as server,
        socket.create_connection(server.address, timeout=LIMIT) as client,
    ):
        client.sendall(START)
        assert client.recv(65536).startswith(PREFACE_REFUSED)


def test_under_tls_it_must_be_agreed_on(authority: Authority) -> None:
    """RFC 9113 §3.2: prior knowledge is for cleartext."""
    with serving(authority.place, "secret:app", *pair(authority)) as server:
        context: ssl.SSLContext = authority.client()
        with (
            socket.create_connection(server.address, timeout=LIMIT) as raw,
            context.wrap_socket(raw, server_hostname="localhost") as client,
        ):
            client.sendall(START)
            assert client.recv(65536).startswith(PREFACE_REFUSED)


def test_it_is_logged_like_any_other_request(tmp_path: Path) -> None:
    with serving(tmp_path, "tell:app", "--access-log", "--log-format", "text") as server:
        curl("--http2-prior-knowledge", f"{server.url}/?one")
        server.stop()
        assert '"GET /?one HTTP/2" 200' in server.log()


# --- one client's trouble is no other's


def test_a_flood_costs_its_connection_and_nothing_else(tmp_path: Path) -> None:
    """Rapid reset from many connections, while others are served by the same worker."""
    flood = b"".join(get(n, "/events") + frames.reset(n) for n in range(1, 3000, 2))
    with serving(tmp_path, workers=1) as server:
        load = Load(server.address, most=5)
        load.start()
        for _ in range(5):
            with Raw(server) as attacker:
                with contextlib.suppress(OSError):
                    attacker.socket.sendall(flood)
                goaways = attacker.read_until().goaways
            assert [code for _, code in goaways] in ([11], [])  # a reset may have taken it along
        statuses = load.end()
        assert set(statuses) == {200}
        (worker,) = server.workers()
        assert worker["phase"] == "ready"
        assert len(server.find("readied")) == 1


def test_a_failing_app_costs_its_stream(tmp_path: Path) -> None:
    with serving(tmp_path, workers=1) as server:
        with Raw(server, get(1, "/fail"), get(3)) as client:
            reading = client.read_until(1, 3)
        assert (reading.status(1), reading.status(3)) == (500, 200)


# --- leaving


def test_reloads_under_load_lose_no_request(tmp_path: Path) -> None:
    """Clients that understand GOAWAY, with ten requests in flight all the time."""
    with serving(tmp_path, "tell:app") as server:
        loads = [Load(server.address) for _ in range(4)]
        for load in loads:
            load.start()
        for _ in range(2):
            server.ask("reload")
            server.event("rollout_finished")
        for load in loads:
            statuses = load.end()
            assert set(statuses) == {200}
            assert load.connections >= 2


def test_a_simple_client_notices_no_reload(tmp_path: Path) -> None:
    """httpx, which takes any GOAWAY for the end, but asks one thing after another."""
    with (
        serving(tmp_path, "tell:app") as server,
        httpx.Client(http1=False, http2=True, timeout=LIMIT) as client,
    ):
        for generation in (2, 3):
            server.ask("reload")
            while not server.find("rollout_finished", generation=generation):
                assert client.get(server.url).status_code == 200
                server.rest_so_far()
            assert client.get(server.url).status_code == 200


def test_a_stop_lets_what_has_begun_end(tmp_path: Path) -> None:
    with gate() as door, serving(tmp_path, "tell:app", workers=1, GATE=str(door.path)) as server:
        with Raw(server, get(1, "/held"), get(3)) as client:
            visitor = door.next()
            client.read_until(3)
            server.signal(signal.SIGTERM)
            server.event("retired")
            reading = client.reading
            while not reading.goaways:  # it is told in the middle, since it is never idle
                reading.take(client.socket.recv(65536))
            visitor.release()
            reading = client.read_until(1)
            assert reading.status(1) == 200
            assert reading.goaways[0] == (2**31 - 1, 0)
        assert server.wait() == 0


def test_streams_of_events_end_cleanly_at_a_reload(tmp_path: Path) -> None:
    with serving(tmp_path, "tell:app", "--stream-grace", "0.1", workers=1) as server:
        client = Raw(server, get(1, "/events"), get(3, "/events"))
        while len(client.reading.bodies) < 2:
            client.reading.take(client.socket.recv(65536))
        server.ask("reload")
        reading = client.read_until(1, 3)
        client.socket.close()
        assert reading.bodies == {1: b"data: 1\n\n", 3: b"data: 1\n\n"}
        assert not reading.resets


# --- the package


def test_asked_for_and_not_there_it_says_so(tmp_path: Path) -> None:
    """A directory in front of all others, with an h2 that cannot be found, hides the real one."""
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    (hidden / "sitecustomize.py").write_text(
        "import importlib.util as util\n"
        "find = util.find_spec\n"
        "util.find_spec = lambda name, *more: None if name == 'h2' else find(name, *more)\n"
    )
    root = str(Path(__file__).parents[2])
    path = f"{hidden}:{root}"
    with running(tmp_path, "tell:app", "--http2", "on", PYTHONPATH=path) as server:
        assert server.process.wait(LIMIT) == 4
        assert "http2 is on, and the package h2 is not installed" in server.log()
        assert "clusterd[h2]" in server.log()
    with serving(tmp_path, "tell:app", PYTHONPATH=path) as server:
        assert server.get()
