"""What libraries send at the end of a process arrives: they count on `atexit`."""

import contextlib
import gzip
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.request import urlopen

import brotli
import pytest

from tests.support.server import serving

HERE = Path(__file__).parent / "apps"
APP_DIR = ("--app-dir", str(HERE))


class Collector(ThreadingHTTPServer):
    """Takes whatever is posted to it."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Taker)
        self.bodies: list[bytes] = []

    def count(self, text: bytes) -> int:
        return sum(body.count(text) for body in self.bodies)


class Taker(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:  # the name that the module wants
        body = self.rfile.read(int(self.headers["Content-Length"]))
        match self.headers.get("Content-Encoding"):
            case "gzip":
                body = gzip.decompress(body)
            case "br":  # where the package is there, sentry-sdk takes it
                body = brotli.decompress(body)
        self.server.bodies.append(body)
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_errors_right_before_a_stop_reach_sentry(tmp_path: Path, collector: Collector) -> None:
    dsn = f"http://key@127.0.0.1:{collector.server_port}/1"
    with serving(tmp_path, "telemetry_sentry:app", *APP_DIR, SENTRY_DSN=dsn) as server:
        for _ in range(5):
            with contextlib.closing(server.connect()) as client:
                client.request("GET", "/boom")
                assert client.getresponse().status == 500
        assert server.stop() == 0
    assert collector.count(b'"type":"event"') == 5


def test_errors_right_before_a_recycling_reach_sentry(tmp_path: Path, collector: Collector) -> None:
    dsn = f"http://key@127.0.0.1:{collector.server_port}/1"
    options = (*APP_DIR, "--max-requests", "3")
    with serving(tmp_path, "telemetry_sentry:app", *options, SENTRY_DSN=dsn) as server:
        for _ in range(12):
            with contextlib.closing(server.connect()) as client:
                client.request("GET", "/boom")
                assert client.getresponse().status == 500
        while not server.find("exited"):
            server.event("exited")
        assert server.stop() == 0
    assert collector.count(b'"type":"event"') == 12


def test_the_last_spans_are_exported(tmp_path: Path, collector: Collector) -> None:
    """The processor's thread is started by the import, so each worker imports for itself."""
    endpoint = f"http://127.0.0.1:{collector.server_port}"
    with serving(
        tmp_path, "telemetry_spans:app", *APP_DIR, OTEL_EXPORTER_OTLP_ENDPOINT=endpoint
    ) as server:
        for _ in range(5):
            with urlopen(server.url) as response:
                assert response.read() == b"bought"
        assert server.stop() == 0
    assert collector.count(b"buying") == 5
