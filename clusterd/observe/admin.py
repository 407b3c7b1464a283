"""The admin endpoint: an ordinary ASGI application, which clusterd runs in a process of its own.

It knows nothing but the control socket, so it is as well when workers are not, and what it tells
is the master's word. A scrape takes nothing from those who serve.
"""

import asyncio
import json
import os
import re
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from prometheus_client.exposition import choose_encoder

from clusterd.core.log import fields, get_logger
from clusterd.observe.ask import Master, Unreachable
from clusterd.observe.hosts import Hosts, without_port
from clusterd.observe.merged import Merged
from clusterd.observe.metrics import END, exposition

CONTROL = "CLUSTERD_CONTROL"  # the control socket's path, see `config.admin`
HOSTS = "CLUSTERD_ADMIN_HOSTS"  # names in Host that are accepted
TEXT = "text/plain; charset=utf-8"
INDEX = """\
clusterd's admin endpoint
/metrics      metrics for Prometheus, as text or OpenMetrics
/healthz      200 while the master answers
/readyz       200 while requests are served, 503 with the reason otherwise
/status.json  what 'clusterd status --json' shows
"""

logger = get_logger("clusterd.observe")

NAME = re.compile(r"[a-z0-9_.-]{1,253}", re.ASCII)  # what `admin_hosts` may have
MOST_LOGGED = 10  # refused names: a client that makes up names must not fill the log

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


class Answer(NamedTuple):
    """What is sent."""

    status: int
    body: bytes
    kind: str = TEXT
    headers: tuple[tuple[bytes, bytes], ...] = ()


def text(status: int, said: str) -> Answer:
    """A line for people."""
    return Answer(status, said.encode() + b"\n")


class Admin:
    """The application."""

    def __init__(
        self, master: Master, merged: Merged | None = None, hosts: Hosts | None = None
    ) -> None:
        self.master = master
        self.merged = merged
        self.hosts = hosts or Hosts(())
        self.refused: set[str] = set()  # names that were logged
        self.routes: dict[str, Callable[[Scope], Awaitable[Answer]]] = {
            "/": self.index,
            "/metrics": self.metrics,
            "/healthz": self.health,
            "/readyz": self.readiness,
            "/status.json": self.status,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "http":
            await self._send(scope, send, await self._answer(scope))
        else:
            await receive()
            await send({"type": "websocket.close"})

    async def _live(self, receive: Receive, send: Send) -> None:
        while (await receive())["type"] == "lifespan.startup":
            await send({"type": "lifespan.startup.complete"})
        self.master.close()
        await send({"type": "lifespan.shutdown.complete"})

    async def _answer(self, scope: Scope) -> Answer:
        host = self._strange_host(scope)
        if host:
            return self._refuse(host)
        act = self.routes.get(scope["path"])
        if act is None:
            return text(404, f"there is no such page; there are {', '.join(self.routes)}")
        if scope["method"] not in ("GET", "HEAD"):
            answer = text(405, "only GET and HEAD are allowed here")
            return answer._replace(headers=((b"allow", b"GET, HEAD"),))
        try:
            return await act(scope)
        except Unreachable as error:
            return text(503, str(error))

    def _strange_host(self, scope: Scope) -> str:
        """Return the Host of a request if it is none of ours, else ''. Browsers always send one,
        and never connect to a Unix socket."""
        if scope["server"][1] is None:
            return ""
        host = next((value for name, value in scope["headers"] if name == b"host"), b"")
        named: str = host.decode("latin-1")
        return "" if not named or self.hosts.has(named, scope["server"][0]) else named

    def _refuse(self, host: str) -> Answer:
        """Return the response that says what to do, and log the same once for each name."""
        name = without_port(host).lower().rstrip(".")
        said = f"{host!r} in Host is not a known name of the admin endpoint"
        if not NAME.fullmatch(name):
            return text(421, said)
        remedy = f"to allow it, add it to admin_hosts: --admin-hosts {name}, or "
        remedy += f'admin_hosts = ["{name}"] in the file of settings'
        if name not in self.refused and len(self.refused) < MOST_LOGGED:
            self.refused.add(name)
            logger.warning("%s: the response is 421", said, extra=fields(remedy=remedy))
        return text(421, f"{said}; {remedy}")

    async def _send(self, scope: Scope, send: Send, answer: Answer) -> None:
        headers = [
            (b"content-type", answer.kind.encode()),
            (b"content-length", b"%d" % len(answer.body)),
            (b"cache-control", b"no-store"),
            *answer.headers,
        ]
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        body = b"" if scope["method"] == "HEAD" else answer.body
        await send({"type": "http.response.body", "body": body})

    async def index(self, _scope: Scope) -> Answer:
        return Answer(200, INDEX.encode())

    async def metrics(self, scope: Scope) -> Answer:
        found = [value for name, value in scope["headers"] if name == b"accept"]
        encode, kind = choose_encoder(b",".join(found).decode("latin-1"))
        openmetrics = kind.startswith("application/openmetrics-text")
        page = exposition(await self.master.ask("metrics"), openmetrics).encode()
        if self.merged is not None:  # files of others: they may be many, or on a slow disk
            page += await asyncio.to_thread(self.merged.exposition, encode)
        return Answer(200, page + END.encode() * openmetrics, kind)

    async def health(self, _scope: Scope) -> Answer:
        await self.master.ask("metrics")
        return text(200, "the master answers")

    async def readiness(self, _scope: Scope) -> Answer:
        reason = why_not_ready(await self.master.ask("metrics"))
        return text(503, f"not ready: {reason}") if reason else text(200, "ready")

    async def status(self, _scope: Scope) -> Answer:
        reply = await self.master.ask("status")
        del reply["ok"]
        return Answer(200, json.dumps(reply).encode() + b"\n", "application/json")


def why_not_ready(reply: dict[str, Any]) -> str:
    """Why nobody should send requests here; '' while they are welcome.

    Applications are what requests are sent to, so commands count only where there is nothing else.
    """
    if reply["state"] == "stopping":
        return "the cluster is stopping"
    wanted = [group for group in reply["groups"] if not group["internal"]]
    for group in [one for one in wanted if one["kind"] == "app"] or wanted:
        if group["state"] in ("waiting", "starting", "paused", "stopping"):
            return f"{group['name']} is {group['state']}"
        if not group["ready"]:
            return f"no worker of {group['name']} is ready"
    return ""


def make() -> Admin:
    """The application of the cluster that started us."""
    directory = os.environ.get("PROMETHEUS_MULTIPROC_DIR", "")
    hosts = Hosts(os.environ.get(HOSTS, "").split())
    return Admin(Master(os.environ[CONTROL]), Merged(directory) if directory else None, hosts)
