"""The table of servers, and how one of them is started, asked and stopped."""

import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType

from benchmarks import load, proc

REPOSITORY = Path(__file__).resolve().parent.parent
APPS = Path(__file__).resolve().parent / "apps"
START_LIMIT = 60.0
STOP_LIMIT = 30.0


@dataclass(frozen=True, slots=True, eq=False)
class Server:
    """A row of the table. In the command stand {python}, {port}, {workers}, {app} (a module), and
    for TLS {cert} and {key} (files)."""

    name: str
    command: str
    reloads: bool = True  # SIGHUP loads the code anew
    env: Mapping[str, str] = field(default_factory=dict)
    kind: str = ""  # the name of the row it is a variant of
    needs: str = ""  # a package or program without which it is left out
    tls: bool = False

    def variant(self, name: str, more: str, tls: bool = False) -> "Server":
        """The same server with more options, under the name `<its name>-<name>`."""
        called, command = f"{self.name}-{name}", f"{self.command} {more}"
        return replace(self, name=called, command=command, kind=self.kind or self.name, tls=tls)

    @property
    def is_ours(self) -> bool:
        """Whether it is clusterd in some form: what breaks there is not forgiven."""
        return "clusterd" in (self.name, self.kind)


CLUSTERD = Server(
    "clusterd",
    "{python} -m clusterd.cli.main run {app}:app -b 127.0.0.1:{port} -w {workers}",
)
CLUSTERD_FOLDER = replace(CLUSTERD, command=CLUSTERD.command + " --app-dir {folder}")
CLUSTERD_UNGATED = Server(
    "clusterd-ungated",
    CLUSTERD.command,
    env={"PYTHONPATH": os.pathsep.join((str(APPS / "ungated"), str(REPOSITORY)))},
)
UVICORN_LOGGING = Server(
    "uvicorn-access-log",
    "{python} -m uvicorn {app}:app --port {port} --workers {workers}",
    kind="uvicorn",
)
UVICORN = Server(
    "uvicorn",
    UVICORN_LOGGING.command + " --no-access-log --log-level warning",
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
NODE = Server("node", "node cluster.js {port} {workers} {app}", reloads=False, needs="node")
RAW = Server("raw-uvloop", "{python} raw.py {port}", reloads=False)  # canned bytes only
# All in C, HTTP and ASGI alike; it has wheels for few interpreters.
FREASTAL = Server(
    "freastal", "{python} with_freastal.py asgi {port} {app}", reloads=False, needs="freastal"
)

CLUSTERD_INLINE = CLUSTERD.variant("inline", "--threads 1")
GUNICORN_THREADS = Server(
    "gunicorn-gthread",
    "{python} -m gunicorn -k gthread --threads 8 -w {workers} -b 127.0.0.1:{port} {app}:app",
    kind="gunicorn",
)
GRANIAN_WSGI = Server(
    "granian-wsgi", GRANIAN.command.replace("--interface asgi", "--interface wsgi"), kind="granian"
)
FREASTAL_WSGI = Server(
    "freastal-wsgi",
    "{python} with_freastal.py wsgi {port} {app}",
    reloads=False,
    kind="freastal",
    needs="freastal",
)

CLUSTERD_LOGGING = CLUSTERD.variant("access-log", "--access-log")
GRANIAN_LOGGING = Server(
    "granian-access-log",
    GRANIAN.command.replace("--log-level warning", "--access-log"),
    kind="granian",
)

CLUSTERD_DEV = replace(
    CLUSTERD.variant("dev", "--dev --app-dir {folder} --log-format json --log-level debug"),
    needs="watchfiles",
)
CLUSTERD_DEV_COLD = replace(CLUSTERD_DEV, name="clusterd-dev-cold")
UVICORN_DEV = Server(
    "uvicorn-reload",
    "{python} -m uvicorn {app}:app --port {port} --reload --reload-dir {folder}"
    " --app-dir {folder} --reload-delay 0.05 --no-access-log",
    kind="uvicorn",
    needs="watchfiles",
)

CLUSTERD_TLS = CLUSTERD.variant("tls", "--tls-cert {cert} --tls-key {key}", tls=True)
UVICORN_TLS = UVICORN.variant("tls", "--ssl-certfile {cert} --ssl-keyfile {key}", tls=True)
GUNICORN_TLS = GUNICORN.variant("tls", "--certfile {cert} --keyfile {key}", tls=True)
GRANIAN_TLS = GRANIAN.variant("tls", "--ssl-certificate {cert} --ssl-keyfile {key}", tls=True)

UVICORN_WEBSOCKETS = UVICORN.variant("websockets", "--ws websockets")
UVICORN_SANSIO = UVICORN.variant("websockets-sansio", "--ws websockets-sansio")

CLUSTERD_ADMIN = CLUSTERD.variant("admin", "--admin 127.0.0.1:{admin}")

# Idle connections stay open for as long as they are looked at.
CLUSTERD_ROOMY = CLUSTERD.variant(
    "roomy", "--max-connections 20000 --keep-alive 600 --max-requests-per-connection 0"
)
# The budget of the tests, and room for the attackers beside others.
CLUSTERD_ATTACKED = CLUSTERD_FOLDER.variant(
    "attacked", "--memory-budget 96MiB --max-connections 3000"
)
UVICORN_PATIENT = UVICORN.variant("patient", "--timeout-keep-alive 600")
GRANIAN_ROOMY = GRANIAN.variant("roomy", "--backlog 20000 --backpressure 20000")

TABLE = (
    CLUSTERD,
    CLUSTERD_UNGATED,
    CLUSTERD_INLINE,
    CLUSTERD_LOGGING,
    CLUSTERD_TLS,
    CLUSTERD_ADMIN,
    CLUSTERD_ROOMY,
    CLUSTERD_ATTACKED,
    UVICORN,
    UVICORN_LOGGING,
    UVICORN_DEV,
    UVICORN_TLS,
    UVICORN_WEBSOCKETS,
    UVICORN_SANSIO,
    UVICORN_PATIENT,
    GUNICORN,
    GUNICORN_PRELOAD,
    GUNICORN_THREADS,
    GUNICORN_TLS,
    GRANIAN,
    GRANIAN_WSGI,
    GRANIAN_LOGGING,
    GRANIAN_TLS,
    GRANIAN_ROOMY,
    FREASTAL,
    FREASTAL_WSGI,
    NODE,
    RAW,
)


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
        more: Mapping[str, str] | None = None,
    ) -> None:
        self.server = server
        self.port = free_port()
        self.folder = tempfile.TemporaryDirectory(prefix=f"bench-{server.name}-")
        self.log = Path(self.folder.name, "log")
        words = {"python": python, "port": str(self.port), "workers": str(workers), "app": app}
        words.update(more or {})
        argv = [word.format(**words) for word in server.command.split()]
        environ = {
            **{name: value for name, value in os.environ.items() if name != "WEB_CONCURRENCY"},
            # A runtime directory of its own, so that no cluster of the user's is in the way.
            "CLUSTERD_RUNTIME_DIR": str(Path(self.folder.name, "clusterd")),
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
                return load.ask(self.port, "/pid", tls=self.server.tls)
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
