"""A cluster that speaks TLS, and what its app is told of it."""

import contextlib
import ssl
from collections.abc import Iterator
from typing import Any

import httpx

from tests.support.authority import Authority
from tests.support.server import Server, serving

PAIR = ("--tls-cert", "server.pem", "--tls-key", "server.key")


@contextlib.contextmanager
def secure(authority: Authority, *options: str, **more: Any) -> Iterator[Server]:
    """A cluster with the certificate of `server.pem`, made if nobody has made it."""
    if not (authority.place / "server.pem").exists():
        authority.issue("server")
    with serving(authority.place, "secret:app", *PAIR, *options, **more) as server:
        yield server


def pids(server: Server) -> set[int]:
    """Who serves."""
    return {worker["pid"] for worker in server.workers() if worker["phase"] == "ready"}


def told(server: Server, context: ssl.SSLContext) -> dict[str, Any]:
    """What the app was told of a connection."""
    with httpx.Client(verify=context) as client:
        reply: dict[str, Any] = client.get(f"https://localhost:{server.address[1]}/").json()
    return reply
