"""The table of servers, and how one of them is started, asked and stopped."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from benchmarks import load, proc

REPOSITORY = Path(__file__).resolve().parent.parent
APPS = Path(__file__).resolve().parent / "apps"
START_LIMIT = 60.0
STOP_LIMIT = 30.0


@dataclass(frozen=True, slots=True)
class Server:
    """A row of the table. In the command stand {python}, {port}, {workers} and {app} (a module)."""

    name: str
    command: str
    reloads: bool = True  # SIGHUP loads the code anew
    env: Mapping[str, str] = field(default_factory=dict)


CLUSTERD = Server(
    "clusterd",
    "{python} -m clusterd.cli.main run {app}:app -b 127.0.0.1:{port} -w {workers}",
)
CLUSTERD_UNGATED = Server(
    "clusterd-ungated",
    CLUSTERD.command,
    env={"PYTHONPATH": os.pathsep.join((str(APPS / "ungated"), str(REPOSITORY)))},
)
UVICORN = Server(
    "uvicorn",
    "{python} -m uvicorn {app}:app --port {port} --workers {workers}"
    " --no-access-log --log-level warning",
)
GUNICORN = Server(
    "gunicorn",
    "{python} -m gunicorn -k asgi -w {workers} -b 127.0.0.1:{port} {app}:app",
)
GUNICORN_PRELOAD = Server("gunicorn-preload", GUNICORN.command + " --preload")
GRANIAN = Server(
    "granian",
    "{python} -m granian --interface asgi --host 127.0.0.1 --port {port} --workers {workers}"
    " --respawn-failed-workers --log-level warning {app}:app",
)
NODE = Server("node", "node cluster.js {port} {workers} {app}", reloads=False)
RAW = Server("raw-uvloop", "{python} raw.py {port}", reloads=False)  # canned bytes only

TABLE = (CLUSTERD, CLUSTERD_UNGATED, UVICORN, GUNICORN, GUNICORN_PRELOAD, GRANIAN, NODE, RAW)


def available(server: Server) -> bool:
    """Whether it can be started at all here; only Node is not installed by the run itself."""
    return server is not NODE or shutil.which("node") is not None


def free_port() -> int:
    """A port that nobody uses just now."""
    with socket.create_server((load.HOST, 0)) as sock:
        port: int = sock.getsockname()[1]
        return port


class Running:
    """A started server: `with Running(...) as running:` stops all of it, by pid."""

    def __init__(
        self,
        server: Server,
        python: str,
        app: str = "plain",
        workers: int = 4,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.server = server
        self.port = free_port()
        self.folder = tempfile.TemporaryDirectory(prefix=f"bench-{server.name}-")
        self.log = Path(self.folder.name, "log")
        words = {"python": python, "port": str(self.port), "workers": str(workers), "app": app}
        argv = [word.format(**words) for word in server.command.split()]
        environ = {
            **{name: value for name, value in os.environ.items() if name != "WEB_CONCURRENCY"},
            # A runtime directory of its own, so that no cluster of the user's is in the way.
            "XDG_RUNTIME_DIR": self.folder.name,
            "PYTHONPATH": str(REPOSITORY),
            "PYTHONDONTWRITEBYTECODE": "",
            **server.env,
            **(env or {}),
        }
        with self.log.open("wb") as log:
            self.started = time.perf_counter()
            self.process = subprocess.Popen(
                argv,
                cwd=APPS,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for us; we stop it in order
            )
        self.root = self.process.pid

    def __enter__(self) -> "Running":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is not None:
            error.add_note(f"{self.server.name} said: {self.said()}")
        self.stop()
        self.folder.cleanup()

    def said(self) -> str:
        """The end of what it wrote."""
        return self.log.read_text(errors="replace")[-2000:]

    def wait_answering(self) -> load.Answer:
        """Poll until it answers a request; its own pid, or what it has to say, is in the body."""
        limit = time.perf_counter() + START_LIMIT
        while time.perf_counter() < limit and proc.alive(self.root):
            with suppress(OSError):
                return load.ask(self.port, "/pid")
            time.sleep(0.02)
        raise TimeoutError(f"{self.server.name} does not answer")

    def only_worker(self) -> int:
        """The pid that serves, for a server of one worker."""
        body = self.wait_answering().body
        return int(body) if body.isdigit() else self.root

    def stop(self) -> None:
        """TERM, then what is left of its tree is killed; nothing else is touched."""
        before = []
        for pid in proc.tree(self.root):
            with suppress(FileNotFoundError, ProcessLookupError):
                before.append(proc.identity(pid))
        self.process.terminate()
        try:
            self.process.wait(STOP_LIMIT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        for who in before:
            proc.kill_exactly(who, signal.SIGKILL)
        proc.reap([pid for pid, _ in before])
