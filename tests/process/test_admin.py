"""The admin endpoint of a real cluster: deaths, an upgrade and a stop as seen from it."""

import contextlib
import http.client
import json
import os
import signal
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pytest

from tests.support.gate import Gate, gate
from tests.support.rights import opening
from tests.support.scrape import counters, decreased, value
from tests.support.server import LIMIT, Server, running, serving

APP = """
from prometheus_client import Counter, Gauge
from tests.apps.tell import app as tell

answers = Counter("answers", "Answers of ours.")
present = Gauge("present", "Workers.", multiprocess_mode="livesum")

async def app(scope, receive, send):
    answers.inc(scope["type"] == "http")
    present.set(1)
    await tell(scope, receive, send)
"""
WORKERS, DEATHS = 10, 50  # a slot's sixth early death would be waited for longer than the rest
OPENMETRICS = {"Accept": "application/openmetrics-text;version=1.0.0"}


class Endpoint:
    """The admin endpoint, over one connection that is kept."""

    def __init__(self, server: Server, path: Path) -> None:
        self.server, self.path = server, path
        self.http = http.client.HTTPConnection("admin", timeout=LIMIT)
        self.http.sock = socket.socket(socket.AF_UNIX)
        self.http.sock.settimeout(LIMIT)
        self.http.sock.connect(str(path))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()

    def get(self, page: str, **headers: str) -> tuple[int, str]:
        self.http.request("GET", page, headers=headers)
        response = self.http.getresponse()
        return response.status, response.read().decode()

    def scrape(self, **headers: str) -> str:
        status, page = self.get("/metrics", **headers)
        assert status == 200, (page, self.server.history())
        return page


@contextlib.contextmanager
def administered(place: Path, path: Path, **env: str) -> Iterator[tuple[Server, Endpoint]]:
    options = ("--admin", f"unix:{path}", "--app-dir", str(place))
    with (
        serving(place, "shop:app", *options, workers=WORKERS, **env) as server,
        Endpoint(server, path) as endpoint,
    ):
        yield server, endpoint


def test_a_life_seen_through_the_admin_endpoint(tmp_path: Path) -> None:
    """One cluster: fifty deaths and an upgrade under requests, then a stop with one in flight."""
    (tmp_path / "shop.py").write_text(APP)
    (tmp_path / "files").mkdir()
    with tempfile.TemporaryDirectory(prefix="clusterd-") as folder, gate() as held:
        env = {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path / "files"), "GATE": str(held.path)}
        with administered(tmp_path, Path(folder, "admin"), **env) as (server, endpoint):
            assert endpoint.get("/readyz") == (200, "ready\n")
            asked = deaths_and_an_upgrade(server, endpoint)
            page = endpoint.scrape()
            assert value(page, "clusterd_worker_exits_total", group="web", cause="killed") == DEATHS
            assert value(page, "clusterd_events_total", group="web", kind="exited") == DEATHS
            # A worker that is killed takes its last 20 ms of counts along.
            counted = value(page, "clusterd_requests_total", group="web", code="2xx")
            assert asked - DEATHS <= counted <= asked
            assert value(page, "answers_total") == asked, "the application's own"
            assert value(page, "present") == WORKERS, "live gauges are of the living"
            status = json.loads(endpoint.get("/status.json")[1])
            assert {worker["group"] for worker in status["workers"]} == {"web", "admin"}
            stop_is_seen(server, endpoint, held)
        assert not Path(folder, "admin").exists()


def test_a_host_that_is_strange_is_refused_and_a_probe_is_not(tmp_path: Path) -> None:
    options = ("--admin", "127.0.0.1:0", "--admin-hosts", "metrics.internal")
    with serving(tmp_path, "tell:app", *options, workers=1) as server:
        while not server.find("readied", group="admin"):
            server.event("readied")
        (found,) = server.find("listening", group="admin")
        at = found["address"]
        with contextlib.closing(http.client.HTTPConnection(at, timeout=LIMIT)) as client:
            for name, status in (
                (at, 200),
                ("10.1.2.3:9090", 200),  # a pod's, as a kubelet says it
                ("metrics.internal", 200),
                ("shop:9090", 421),  # by loopback, no service of a container network
                ("evil.example", 421),
            ):
                client.request("GET", "/healthz", headers={"Host": name})
                response = client.getresponse()
                response.read()
                assert response.status == status, name
        assert "--admin-hosts evil.example, or admin_hosts" in server.log()


def deaths_and_an_upgrade(server: Server, endpoint: Endpoint) -> int:
    """Kill all workers one by one, five times, scraping meanwhile; how many requests were made."""
    before, asked = counters(endpoint.scrape(**OPENMETRICS)), 0
    for number in range(DEATHS // WORKERS):
        if number == 2:
            server.ask("upgrade")
            server.event("upgraded")
        for worker in [one for one in server.workers() if one["group"] == "web"]:
            server.get()
            asked += 1
            os.kill(worker["pid"], signal.SIGKILL)
            server.event("exited", pid=worker["pid"])
            after = counters(endpoint.scrape(**OPENMETRICS))
            assert not list(decreased(before, after))
            before = after
        while len(server.find("readied", group="web")) < WORKERS * (number + 2):
            server.event("readied")
    return asked


def stop_is_seen(server: Server, endpoint: Endpoint, held: Gate) -> None:
    """Who asks whether to send requests hears of a stop before it is over, and to its end."""
    client = server.connect()
    client.request("GET", "/held")
    visitor = held.next()
    server.signal(signal.SIGTERM)
    server.event("stopping")
    assert endpoint.get("/readyz") == (503, "not ready: the cluster is stopping\n")
    with Endpoint(server, endpoint.path) as newcomer:  # as probes are
        assert newcomer.get("/readyz") == (503, "not ready: the cluster is stopping\n")
        assert newcomer.get("/healthz")[0] == 200
    assert value(endpoint.scrape(), "clusterd_state", state="stopping") == 1
    visitor.release()
    assert client.getresponse().status == 200
    client.close()
    ended = [event["group"] for event in server.rest() if event["kind"] == "exited"]
    assert ended[-1] == "admin", "it outlives those it tells of"
    assert server.wait() == 0


superuser = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


@superuser
def test_who_gave_up_our_rights_may_look_and_not_command(tmp_path: Path) -> None:
    """The endpoint and all other workers are nobody; the control socket is root's."""
    wrapper = opening()
    if wrapper is None:
        pytest.skip("the interpreter is closed to others, and no mount namespace can open it")
    with tempfile.TemporaryDirectory(prefix="clusterd-") as folder:
        os.chmod(folder, 0o755)
        path = Path(folder, "admin")
        options = ("--user", "nobody", "-w", "1", "--admin", f"unix:{path}")
        with running(tmp_path, "rights:app", *options, wrapper=wrapper) as server:
            os.chmod(server.runtime, 0o711)
            server.ready()
            with Endpoint(server, path) as endpoint:
                assert endpoint.get("/readyz") == (200, "ready\n")
                assert endpoint.get("/status.json")[0] == 200
            assert server.stop() == 0
