"""A real browser: a page's EventSource and WebSocket come back after a reload, and go on."""

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance.serving import serving

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@contextlib.contextmanager
def browser(profile: Path, url: str) -> Iterator[None]:
    """Chromium without a window, and everything that it starts, on one page."""
    assert CHROMIUM
    argv = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
    argv += ["--no-first-run", "--disable-background-networking", "--disable-component-update"]
    argv += [f"--user-data-dir={profile}", "--remote-debugging-port=0", url]
    with (profile / "log").open("wb") as log:
        process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on this machine")
def test_a_page_survives_a_reload(tmp_path: Path) -> None:
    """Both come back by themselves, to new processes, and their numbers go on."""
    profile = tmp_path / "profile"
    profile.mkdir()
    options = ("--graceful-timeout", "4s", "--min-ready", "0")
    with serving(tmp_path, "with_browser:app", *options) as server, browser(profile, server.url):
        before: dict[str, tuple[str, int]] = {}
        while len(before) < 2:
            what, *said = server.told().split()
            before[what] = (said[0], int(said[1]))
        assert set(before) == {"events", "socket"}
        server.process.send_signal(signal.SIGHUP)
        closed: list[list[str]] = []
        after: dict[str, tuple[str, int]] = {}
        while len(after) < 2 or any(after[what][0] == before[what][0] for what in after):
            what, *said = server.told().split()
            if what == "closed":
                closed.append(said)
            else:
                after[what] = (said[0], int(said[1]))
        for what, (_, number) in after.items():
            assert number > before[what][1]
        # Sent away cleanly, and told why: RFC 6455 calls 1012 "service restart".
        assert closed == [["1012", "true"]] * len(closed)
        assert closed
