"""A real browser without a window, asked over a pair of pipes: no port, nothing to wait for.

Speaks the DevTools protocol (chromedevtools.github.io/devtools-protocol), a JSON object ended by a
NUL each way. What it evaluates runs beside the page, not in it, so a page's policy holds.
"""

import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
# Chromium reads from descriptor 3 and writes to 4.
PLACED = "import os, sys; r, w, *argv = sys.argv[1:]; os.dup2(int(r), 3); os.dup2(int(w), 4); "
PLACED += "os.execv(argv[0], argv)"
SAFE = 10  # descriptors from here on are neither of those


class Tab:
    """One page."""

    def __init__(self, reads: int, writes: int) -> None:
        self._reads, self._writes = reads, os.fdopen(writes, "wb")
        self._read = b""
        self._number = 0
        self._session = ""
        self.events: list[dict[str, Any]] = []
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        attached = self.ask("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Network", "Log", "Runtime"):
            self.ask(f"{domain}.enable")

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        """Its answer; events that come before it are kept."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        self._writes.write(json.dumps(message).encode() + b"\0")
        self._writes.flush()
        while (answer := self._next()).get("id") != self._number:
            self.events.append(answer)
        assert "error" not in answer, answer
        result: dict[str, Any] = answer["result"]
        return result

    def open(self, url: str) -> None:
        """Until it is loaded, with all that it asks for."""
        self.events.clear()
        self.ask("Page.navigate", url=url)
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self.events.append(self._next())

    def evaluate(self, expression: str) -> Any:
        """The value of an expression of JavaScript."""
        found = self.ask("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._read:
            more = os.read(self._reads, 1 << 16)
            assert more, "Chromium is gone"
            self._read += more
        raw, _, self._read = self._read.partition(b"\0")
        message: dict[str, Any] = json.loads(raw)
        return message

    def close(self) -> None:
        """Give the pipes back."""
        os.close(self._reads)
        with contextlib.suppress(BrokenPipeError):
            self._writes.close()


@contextlib.contextmanager
def tab(profile: Path) -> Iterator[Tab]:
    """A browser of its own with one page; nothing of it stays."""
    assert CHROMIUM
    theirs, ours = os.pipe()
    mine, its = os.pipe()
    reads, writes = (fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, SAFE) for fd in (theirs, its))
    argv = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
    argv += ["--no-first-run", "--disable-background-networking", "--disable-component-update"]
    argv += ["--remote-debugging-pipe", f"--user-data-dir={profile}", "about:blank"]
    placed = [sys.executable, "-c", PLACED, str(reads), str(writes), *argv]
    with (profile / "log").open("wb") as log:
        process = subprocess.Popen(
            placed,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=(reads, writes),
            start_new_session=True,
        )
    for fd in (theirs, its, reads, writes):
        os.close(fd)
    made = None
    try:
        made = Tab(mine, ours)
        yield made
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if made is not None:
            made.close()
