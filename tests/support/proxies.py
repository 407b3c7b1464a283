"""Real proxies before a real server: nginx and HAProxy, as our own children, stopped by pid.

They are handed sockets that listen already: so no port is guessed, and nobody waits for them to be
ready, since who connects too early waits in the queue.
"""

import contextlib
import getpass
import http.client
import json
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

CLIENT = "127.0.0.7"  # where clients come from: an address that nobody trusts
EMPTY: Mapping[str, str] = {}
LIMIT = 20.0  # seconds until a wait is a failure
PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])
NGINX, HAPROXY = (shutil.which(name, path=PATH) for name in ("nginx", "haproxy"))
needs_nginx = pytest.mark.skipif(NGINX is None, reason="nginx is not installed")
needs_haproxy = pytest.mark.skipif(HAPROXY is None, reason="haproxy is not installed")


@contextlib.contextmanager
def doors(number: int) -> Iterator[list[socket.socket]]:
    """Sockets that listen on free ports."""
    with contextlib.ExitStack() as stack:
        found = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(number)]
        for door in found:
            door.setblocking(False)
        yield found


def port_of(door: socket.socket) -> int:
    return int(door.getsockname()[1])


@contextlib.contextmanager
def running(command: list[str], place: Path, fds: list[int], **env: str) -> Iterator[None]:
    """A proxy while the block runs."""
    with (place / "proxy.log").open("wb") as log:
        process = subprocess.Popen(
            command,
            cwd=place,
            env={**os.environ, **env},
            pass_fds=fds,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        yield
        assert process.poll() is None, (place / "proxy.log").read_text()
    finally:
        process.terminate()
        try:
            process.wait(LIMIT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextlib.contextmanager
def nginx(place: Path, servers: str, taken: list[socket.socket]) -> Iterator[None]:
    """nginx with these `upstream` and `server` blocks, which listen where the sockets do."""
    place.mkdir()
    temporary = "\n".join(
        f"{kind}_temp_path {place}/{kind};"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    # As root it would have its worker be somebody who may not enter this directory.
    user = f"user {getpass.getuser()};" if os.geteuid() == 0 else ""
    (place / "nginx.conf").write_text(
        f"""
        {user} daemon off; worker_processes 1;
        pid {place}/nginx.pid; error_log {place}/error.log;
        events {{}}
        http {{
            {temporary}
            access_log off;
            client_header_timeout 2s; client_body_timeout 2s;
            {servers}
        }}
        """
    )
    # How one nginx hands its sockets to the next when it is upgraded.
    fds = [door.fileno() for door in taken]
    command = [str(NGINX), "-c", str(place / "nginx.conf"), "-e", str(place / "error.log")]
    with running(command, place, fds, NGINX="".join(f"{fd};" for fd in fds)):
        yield


@contextlib.contextmanager
def haproxy(place: Path, sections: str, taken: list[socket.socket]) -> Iterator[None]:
    """HAProxy with these frontends and backends, which bind `fd@` the sockets' numbers."""
    place.mkdir()
    (place / "haproxy.cfg").write_text(
        f"""
defaults
    timeout connect 5s
    timeout client 2s
    timeout server 5s
    timeout http-request 2s
{sections}
"""
    )
    command = [str(HAPROXY), "-db", "-f", str(place / "haproxy.cfg")]
    with running(command, place, [door.fileno() for door in taken]):
        yield


class Record:
    """What the recording app has seen."""

    def __init__(self, place: Path) -> None:
        self.path = place / "record"
        self.path.touch()
        self._read = 0

    def news(self) -> list[dict[str, Any]]:
        """The requests since the last look."""
        with self.path.open("rb") as file:
            file.seek(self._read)
            lines = file.read()
        self._read += len(lines)
        return [json.loads(line) for line in lines.splitlines()]


def ask(
    port: int, path: str = "/", headers: Mapping[str, str] = EMPTY, **more: Any
) -> dict[str, Any]:
    """A proper request from where clients come from; what the app saw of it."""
    client = http.client.HTTPConnection(
        "127.0.0.1", port, timeout=LIMIT, source_address=(CLIENT, 0)
    )
    with contextlib.closing(client):
        client.request(more.get("method", "GET"), path, more.get("body"), dict(headers))
        answer = client.getresponse()
        body = answer.read()
    assert answer.status == 200, (answer.status, body)
    seen: dict[str, Any] = json.loads(body)
    seen["headers"] = dict(seen["headers"])
    return seen


def send_raw(port: int, data: bytes, silence: float = 0.1) -> bytes:
    """Bytes as they are; all that comes back until the proxy closes or has nothing more to say."""
    with socket.create_connection(("127.0.0.1", port), LIMIT, (CLIENT, 0)) as sock:
        answer = b""
        with contextlib.suppress(TimeoutError, ConnectionError):
            sock.sendall(data)
            sock.settimeout(silence)
            while piece := sock.recv(65536):
                answer += piece
    return answer
