"""Middlewares that compress what applications send, written against other servers."""

import gzip
import time
from pathlib import Path

import brotli
import pytest

from tests.support import chromium
from tests.support.server import LIMIT, running, serving

APPS = str(Path(__file__).parent / "apps")
PAGE = b"<p>hello</p>" * 10_000


@pytest.mark.parametrize(("path", "coding"), [("/brotli/", "br"), ("/gzip/", "gzip")])
def test_files_are_compressed(path: str, coding: str, tmp_path: Path) -> None:
    with serving(tmp_path, "compressing:app", "--app-dir", APPS, workers=1) as server:
        client = server.connect()
        client.request("GET", path, headers={"Accept-Encoding": coding})
        response = client.getresponse()
        body = response.read()
        assert response.status == 200
        assert response.headers["content-encoding"] == coding
        assert (brotli if coding == "br" else gzip).decompress(body) == PAGE
        client.close()


def test_a_lost_file_is_explained_where_the_extension_was_asked_for(tmp_path: Path) -> None:
    options = ("--app-dir", APPS, "--file-extensions")
    with serving(tmp_path, "compressing:app", *options, workers=1) as server:
        client = server.connect()
        client.request("GET", "/brotli/", headers={"Accept-Encoding": "br"})
        assert client.getresponse().status == 500
        client.close()
    assert "a middleware has dropped the message http.response.pathsend" in server.log()


@pytest.mark.timeout(120)
@pytest.mark.skipif(chromium.CHROMIUM is None, reason="there is no chromium on this machine")
def test_gradio_shows_its_page(tmp_path: Path) -> None:
    """Its own middleware compresses what a browser loads; a lost file leaves the page blank."""
    # Its import takes seconds, and leaves an event loop: import it once, in the worker.
    options = ("--app-dir", APPS, "-w", "1", "--startup-timeout", "100s", "--preload", "never")
    profile = tmp_path / "profile"
    profile.mkdir()
    with (
        running(tmp_path, "blocks:app", *options, HOME=str(tmp_path)) as server,
        chromium.tab(profile) as tab,
    ):
        server.event("ready", within=100)
        tab.open(server.url)
        deadline = time.monotonic() + LIMIT
        while "Greet" not in (shown := tab.evaluate("document.body.innerText")):
            assert time.monotonic() < deadline, (shown, server.history())
        statuses = {
            event["params"]["response"]["url"]: event["params"]["response"]["status"]
            for event in tab.events
            if event["method"] == "Network.responseReceived"
        }
        assert {status for status in statuses.values() if status >= 500} == set(), statuses
        assert server.stop() == 0
