"""A real `clusterd run` for a test: started, waited for by its own word, stopped by pid."""

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

APPS = Path(__file__).resolve().parent / "apps"
REPOSITORY = Path(__file__).resolve().parents[2]
STOP_LIMIT = 40  # s; the graceful timeout is 25
FILE = bytes(range(256)) * 4096  # what the apps have a file of


@dataclass
class Server:
    """A running clusterd: its address, what it logs, and what its app tells."""

    app: str
    process: subprocess.Popen[str]
    pipe: int
    lines: list[dict[str, Any]] = field(default_factory=list)
    url: str = ""
    _news: threading.Condition = field(default_factory=threading.Condition)
    _over: bool = False

    def listen(self) -> None:
        """Take the log in, line by line, until it ends (on a thread, so that it never fills)."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            event = json.loads(line) if line.startswith("{") else {"message": line.rstrip()}
            with self._news:
                self.lines.append(event)
                self._news.notify_all()
        with self._news:
            self._over = True
            self._news.notify_all()

    def wait_logged(self, text: str) -> dict[str, Any]:
        """The first log line that has a text in one of its fields; blocks until there is one."""
        with self._news:
            while True:
                for line in self.lines:
                    if any(text in str(value) for value in line.values()):
                        return line
                assert not self._over, self.lines[-5:]
                self._news.wait()

    def wait_ready(self) -> None:
        """Until all workers are ready, or clusterd has ended."""
        self.url = f"http://{self.wait_logged('listening')['address']}"
        with self._news:
            while not any(line["message"] == "ready" for line in self.lines):
                assert not self._over, self.lines[-5:]
                self._news.wait()

    def told(self) -> str:
        """The next line that the app tells; blocks until there is one."""
        data = b""
        while not data.endswith(b"\n"):
            data += os.read(self.pipe, 1)
        return data.decode().strip()


@contextlib.contextmanager
def serving(folder: Path, app: str, *options: str, workers: int = 2) -> Iterator[Server]:
    """Run an app from `apps/` on a free port; at the end it must stop cleanly, with status 0."""
    fifo = folder / "told"
    os.mkfifo(fifo)
    pipe = os.open(fifo, os.O_RDWR)  # so that neither end ever waits for the other
    (folder / "file").write_bytes(FILE)
    environ = {
        **{name: value for name, value in os.environ.items() if not name.startswith("CLUSTERD_")},
        "CONFORMANCE_FILE": str(folder / "file"),
        "CONFORMANCE_PIPE": str(fifo),
        "PYTHONPATH": str(REPOSITORY),
        "CLUSTERD_RUNTIME_DIR": str(folder),
    }
    argv = [sys.executable, "-m", "clusterd.cli.main", "run", app, "--app-dir", str(APPS)]
    argv += ["-b", "127.0.0.1:0", "-w", str(workers), "--log-format", "json", *options]
    process = subprocess.Popen(
        argv, cwd=folder, env=environ, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    server = Server(app, process, pipe)
    ear = threading.Thread(target=server.listen)
    ear.start()
    try:
        server.wait_ready()
        yield server
    finally:
        process.terminate()
        try:
            status = process.wait(STOP_LIMIT)
        except BaseException:  # also the test's own time limit: nothing may be left behind
            process.kill()
            process.wait()
            raise
        finally:
            ear.join()
            assert process.stderr is not None
            process.stderr.close()
            os.close(pipe)
    assert status == 0, server.lines[-5:]
