"""Event streams of real libraries that say nothing: open at once, and ended properly."""

import asyncio
import http.client
import json
import signal
from pathlib import Path

import pytest
from mcp import Client

from tests.support.server import Server, serving

APPS = str(Path(__file__).parent / "apps")
OPTIONS = ("--app-dir", APPS, "--stream-grace", "100ms", "--graceful-timeout", "20s")
ACCEPT = {"Accept": "application/json, text/event-stream", "MCP-Protocol-Version": "2025-06-18"}
INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "test", "version": "1"},
    },
}


def begin(server: Server, path: str, **headers: str) -> tuple[http.client.HTTPConnection, str]:
    """Ask for a stream; its client, and the path, once the head is there."""
    client = server.connect()
    client.request("GET", path, headers={**ACCEPT, **headers})
    return client, path


def mcp_session(server: Server) -> dict[str, str]:
    """Begin a session, as MCP's streamable HTTP transport does; the header that names it."""
    client = server.connect()
    head = {**ACCEPT, "Content-Type": "application/json"}
    client.request("POST", "/mcp", json.dumps(INITIALIZE), head)
    response = client.getresponse()
    assert response.status == 200, response.read()
    response.read()
    client.close()
    name = response.headers["mcp-session-id"]
    assert name
    return {"Mcp-Session-Id": name}


@pytest.mark.parametrize("way", ["reload", "stop"])
def test_silent_streams_are_open_at_once_and_end_properly(way: str, tmp_path: Path) -> None:
    """Starlette's own, below a BaseHTTPMiddleware, sse-starlette's, and MCP's of notifications."""
    with serving(tmp_path, "streaming:app", *OPTIONS, workers=1) as server:
        streams = [
            begin(server, "/plain"),
            begin(server, "/below/plain"),
            begin(server, "/library"),
            begin(server, "/mcp", **mcp_session(server)),
        ]
        responses = [(client.getresponse(), path) for client, path in streams]
        for response, path in responses:
            assert response.status == 200, (path, response.read())
            assert response.headers["content-type"].startswith("text/event-stream"), path
        if way == "reload":
            server.ask("reload", wait=True)
        else:
            server.signal(signal.SIGTERM)
        for response, path in responses:
            # A cut one raises IncompleteRead; a ping is a comment.
            assert not response.read().replace(b": ping", b"").startswith(b"data"), path
        for client, _ in streams:
            client.close()
        assert server.stop() == 0
        assert not server.find("killed")


def test_an_mcp_client_calls_a_tool(tmp_path: Path) -> None:
    async def call(url: str) -> str:
        async with Client(url) as client:
            return str(await client.call_tool("add", {"a": 2, "b": 40}))

    with serving(tmp_path, "streaming:app", *OPTIONS, workers=1) as server:
        assert "42" in asyncio.run(call(f"{server.url}/mcp"))
