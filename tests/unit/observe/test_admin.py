"""The admin endpoint's application, asked as a server asks it, with a master that a test plays."""

import asyncio
import json
import shutil
import tempfile
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from clusterd.ipc import trusted
from clusterd.observe.admin import Admin, make, why_not_ready
from clusterd.observe.ask import Master, Unreachable
from tests.support.scrape import families
from tests.unit.observe.test_metrics import group, reply

OPENMETRICS = b"application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"


@pytest.fixture
def path() -> Iterator[str]:
    place = Path(tempfile.mkdtemp(prefix="clusterd-"))  # short enough for a socket
    yield str(place / "sock")
    shutil.rmtree(place)


class Played:
    """A master: what it was asked, and what it answers."""

    def __init__(self, path: str, said: dict[str, Any]) -> None:
        self.path = path
        self.said = said
        self.asked: list[str] = []
        self.lines = 0  # connections
        self.writers: list[asyncio.StreamWriter] = []
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def __aenter__(self) -> "Played":
        self.server = await asyncio.start_unix_server(self._hear, self.path)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.hang_up()
        self.server.close()

    def hang_up(self) -> None:
        for writer in self.writers:
            writer.close()
        self.writers.clear()

    async def _hear(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.lines += 1
        self.writers.append(writer)
        while line := await reader.readline():
            self.asked.append(json.loads(line)["command"])
            await self.may_answer.wait()
            writer.write(json.dumps(self.said).encode() + b"\n")


async def get(
    app: Admin,
    path: str,
    method: str = "GET",
    accept: bytes = b"",
    host: bytes = b"127.0.0.1:9000",
    server: tuple[str, int | None] = ("127.0.0.1", 9000),
) -> tuple[int, dict[str, str], str]:
    """Status, headers and body of an answer."""
    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    async def receive() -> dict[str, Any]:
        return {"type": "http.request"}

    headers = [(b"accept", accept)] if accept else []
    headers += [(b"host", host)] if host else []
    scope = {"type": "http", "method": method, "path": path, "headers": headers, "server": server}
    await app(scope, receive, send)
    start, *rest = sent
    found = {name.decode(): value.decode() for name, value in start["headers"]}
    return start["status"], found, b"".join(one["body"] for one in rest).decode()


def play(
    path: str,
    test: Callable[[Admin, Played], Awaitable[None]],
    said: dict[str, Any] | None = None,
    patience: float = 30.0,
) -> None:
    """A test with the application and the master behind it."""

    async def whole() -> None:
        async with Played(path, reply(group()) if said is None else said) as played:
            app = Admin(Master(path, patience))
            await test(app, played)
            app.master.close()

    run(whole())


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(test, 30))


def test_metrics_in_the_format_that_is_accepted(path: str) -> None:
    async def test(app: Admin, _played: Played) -> None:
        status, headers, page = await get(app, "/metrics")
        assert status == 200
        assert headers["content-type"].startswith("text/plain; version=0.0.4")
        assert families(page)
        assert headers["content-length"] == str(len(page))
        status, headers, page = await get(app, "/metrics", accept=OPENMETRICS)
        assert headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
        assert page.endswith("# EOF\n")
        assert families(page)

    play(path, test)


def test_one_line_is_kept_and_those_who_ask_at_once_share_the_reply(path: str) -> None:
    async def test(app: Admin, played: Played) -> None:
        await get(app, "/metrics")
        await asyncio.gather(*(get(app, page) for page in ("/metrics", "/healthz", "/readyz")))
        assert played.asked == ["metrics", "metrics"]
        assert played.lines == 1

    play(path, test)


def test_a_page_whose_name_leads_here_reads_nothing(
    path: str, caplog: pytest.LogCaptureFixture
) -> None:
    """DNS rebinding: its requests carry its own name."""

    async def test(app: Admin, played: Played) -> None:
        for page in ("/metrics", "/status.json", "/"):
            status, _, body = await get(app, page, host=b"Evil.example:9000")
            assert status == 421
            assert "'Evil.example:9000' in Host" in body
            assert "--admin-hosts evil.example, or admin_hosts = [" in body
        assert not played.asked
        assert (await get(app, "/healthz", host=b""))[0] == 200  # HTTP/1.0: no browser
        at_unix_socket = ("/run/admin.sock", None)
        assert (await get(app, "/healthz", host=b"any.example", server=at_unix_socket))[0] == 200

    play(path, test)
    (line,) = caplog.records
    assert "'Evil.example:9000' in Host" in line.getMessage()
    assert "--admin-hosts evil.example," in line.fields["remedy"]  # type: ignore[attr-defined]


def test_names_that_a_client_makes_up_do_not_fill_the_log(
    path: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def test(app: Admin, _played: Played) -> None:
        for number in range(100):
            assert (await get(app, "/", host=b"h%d.example" % number))[0] == 421
        status, _, body = await get(app, "/", host=b"no/name")
        assert (status, body) == (
            421,
            "'no/name' in Host is not a known name of the admin endpoint\n",
        )

    play(path, test)
    assert len(caplog.records) == 10


def test_a_service_by_its_name_in_a_container_network_is_scraped(path: str) -> None:
    async def test(app: Admin, _played: Played) -> None:
        at = ("172.18.0.3", 9000)
        assert (await get(app, "/metrics", host=b"clusterd:9000", server=at))[0] == 200
        assert (await get(app, "/metrics", host=b"shop.internal:9000", server=at))[0] == 421
        assert (await get(app, "/metrics", host=b"clusterd:9000"))[0] == 421

    play(path, test)


def test_a_master_that_was_upgraded_is_asked_on_a_new_line(path: str) -> None:
    async def test(app: Admin, played: Played) -> None:
        await get(app, "/healthz")
        played.hang_up()
        assert (await get(app, "/healthz"))[0] == 200
        assert played.lines == 2

    play(path, test)


def test_a_process_of_another_user_is_not_asked(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trusted, "peer_of", lambda _: (1, 4_000_001))

    async def test(app: Admin, played: Played) -> None:
        with pytest.raises(Unreachable, match="runs as user 4000001: it is not asked"):
            await app.master.ask("status")
        assert (await get(app, "/metrics"))[0] == 503
        while played.lines < 2:
            await asyncio.sleep(0)  # it has yet to accept what was closed
        assert played.asked == []

    play(path, test)


def test_no_master_is_503_on_every_page_that_needs_it(path: str) -> None:
    async def test() -> None:
        app = Admin(Master(path))
        for page in ("/metrics", "/healthz", "/readyz", "/status.json"):
            status, _, body = await get(app, page)
            assert status == 503
            assert "the master cannot be asked" in body
        assert (await get(app, "/"))[0] == 200

    run(test())


def test_a_master_that_is_silent_is_503_and_its_late_reply_is_nobodys(path: str) -> None:
    async def test(app: Admin, played: Played) -> None:
        played.may_answer.clear()
        status, _, body = await get(app, "/healthz")
        assert (status, body) == (503, "the master did not answer in 0.05 s\n")
        app.master.patience = 30.0
        played.may_answer.set()
        assert (await get(app, "/healthz"))[0] == 200
        assert played.lines == 2

    play(path, test, patience=0.05)


@pytest.mark.parametrize("said", [{"ok": False, "error": "no such command"}, {"a": 1}])
def test_a_master_that_refuses_is_503(path: str, said: dict[str, Any]) -> None:
    async def test(app: Admin, _played: Played) -> None:
        assert (await get(app, "/metrics"))[0] == 503

    play(path, test, said)


def test_who_gives_up_waiting_does_not_take_the_answer_from_others(path: str) -> None:
    async def test(app: Admin, played: Played) -> None:
        played.may_answer.clear()
        first = asyncio.create_task(get(app, "/metrics"))
        second = asyncio.create_task(get(app, "/metrics"))
        while not played.asked:
            await asyncio.sleep(0)
        first.cancel()
        played.may_answer.set()
        assert (await second)[0] == 200
        assert played.asked == ["metrics"]

    play(path, test)


def test_pages_methods_and_heads(path: str) -> None:
    async def test(app: Admin, _played: Played) -> None:
        status, headers, body = await get(app, "/")
        assert (status, headers["content-type"]) == (200, "text/plain; charset=utf-8")
        assert all(page in body for page in app.routes)
        status, _, body = await get(app, "/admin")
        assert status == 404
        assert "/metrics" in body
        status, headers, _ = await get(app, "/metrics", "POST")
        assert (status, headers["allow"]) == (405, "GET, HEAD")
        for page in app.routes:
            whole = await get(app, page)
            status, headers, body = await get(app, page, "HEAD")
            assert (status, headers, body) == (*whole[:2], "")
            assert headers["cache-control"] == "no-store"

    play(path, test)


def test_status_is_the_masters_own_reply(path: str) -> None:
    async def test(app: Admin, played: Played) -> None:
        status, headers, body = await get(app, "/status.json")
        assert (status, headers["content-type"]) == (200, "application/json")
        assert json.loads(body) == {"name": "shop"}
        assert played.asked == ["status"]

    play(path, test, {"ok": True, "name": "shop"})


READY = group("web")
JOBS = group("jobs", kind="command", ready=0)
ADMIN = group("admin", internal=True, state="starting", ready=0)


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (reply(READY, JOBS, ADMIN), ""),
        (reply(group(state="rolling"), state="rolling"), ""),
        (reply(group(state="degraded", ready=1), state="degraded"), ""),
        (reply(READY, state="stopping"), "the cluster is stopping"),
        (reply(group(state="paused", ready=2)), "web is paused"),
        (reply(group(state="starting", ready=1)), "web is starting"),
        (reply(group(state="degraded", ready=0)), "no worker of web is ready"),
        (reply(READY, group("api", state="waiting")), "api is waiting"),
        (reply(JOBS, ADMIN), "no worker of jobs is ready"),
    ],
)
def test_ready_means_that_requests_are_served(path: str, said: dict[str, Any], reason: str) -> None:
    assert why_not_ready(said) == reason

    async def test(app: Admin, _played: Played) -> None:
        status, _, body = await get(app, "/readyz")
        assert (status, body) == ((503, f"not ready: {reason}\n") if reason else (200, "ready\n"))
        assert (await get(app, "/healthz"))[0] == 200

    play(path, test, said)


def test_a_life_and_a_websocket(path: str) -> None:
    async def test(app: Admin, played: Played) -> None:
        sent: list[str] = []

        async def send(message: dict[str, Any]) -> None:
            sent.append(message["type"])

        said = iter(["lifespan.startup", "lifespan.shutdown", "websocket.connect"])

        async def receive() -> dict[str, Any]:
            return {"type": next(said)}

        await get(app, "/healthz")
        await app({"type": "lifespan"}, receive, send)
        await app({"type": "websocket", "path": "/metrics"}, receive, send)
        assert sent == [
            "lifespan.startup.complete",
            "lifespan.shutdown.complete",
            "websocket.close",
        ]

    play(path, test)


def test_the_factory_is_told_by_its_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLUSTERD_CONTROL", "/run/shop/clusterd.sock")
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)
    app = make()
    assert app.master.path == "/run/shop/clusterd.sock"
    assert app.merged is None
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", "/run/shop/metrics")
    merged = make().merged
    assert merged is not None
    assert merged.directory == "/run/shop/metrics"
