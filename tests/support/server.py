"""A real master in a subprocess, followed through its journal. It never sleeps to wait."""

import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from clusterd.ipc.client import Client
from tests.support.ordinary import as_ordinary_user, give

ROOT = Path(__file__).parents[2]
APPS = ROOT / "tests" / "apps"
LIMIT = 30.0  # seconds until a wait is a failure; a pass takes as long as the event
Event = dict[str, Any]


class Server:
    """`clusterd run` in a session of its own, and its history."""

    def __init__(
        self,
        place: Path,
        app: str,
        *options: str,
        env: Mapping[str, str] = {},
        from_file: bool = False,  # addresses come from a clusterd.toml
        cwd: str = "",
        wrapper: tuple[str, ...] = (),  # a command that runs ours
        keep: tuple[int, ...] = (),  # descriptors that it inherits
        ordinary: bool = False,  # by a user without any right
        ambient: str = "",  # but these capabilities
    ) -> None:
        self.place = place
        # A Unix socket's path is short, pytest's directories are not.
        self.runtime = Path(tempfile.mkdtemp(prefix="clusterd-"))
        self.control = self.runtime / "clusterd.sock"
        if ordinary:
            give(self.runtime)
            # pytest's directories are closed to others
            wrapper, cwd = as_ordinary_user(ambient=ambient), str(self.runtime)
        self.stderr = place / "stderr"
        self.seen: list[Event] = []
        ready, theirs = os.pipe()
        command = [sys.executable, "-m", "clusterd.cli.main", "run", *filter(None, [app])]
        command += ["--ready-fd", str(theirs)]
        if "--runtime-dir" not in options:
            command += ["--runtime-dir", str(self.runtime)]
        if "--app-dir" not in options:
            command += ["--app-dir", str(APPS)]
        if not {"-b", "--bind"} & set(options) and not from_file:
            command += ["-b", "127.0.0.1:0"]
        with self.stderr.open("wb") as stderr:
            self.process = subprocess.Popen(
                [*wrapper, *command, *options],
                cwd=cwd or place,
                env={
                    **os.environ,
                    "PYTHONPATH": str(ROOT),
                    "XDG_STATE_HOME": str(place / "state"),
                    "PWD": cwd or str(place),
                    **env,
                },
                stdin=subprocess.DEVNULL,
                stderr=stderr,
                pass_fds=(theirs, *keep),
                start_new_session=True,
            )
        os.close(theirs)
        with open(ready, "rb") as pipe:
            self.started = pipe.read(1) == b"\n"  # EOF: it left before it took commands
        self._stream = self._follow() if self.started and self.control.exists() else None

    def _follow(self) -> Any:
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(str(self.control))
        sock.sendall(b'{"command": "events", "follow": true}\n')
        self._sock = sock
        return sock.makefile("rb")

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def client(self) -> Client:
        return Client(str(self.control))

    def ask(self, command: str, **args: Any) -> dict[str, Any]:
        """A control command's reply."""
        return self.client.ask(command, **args)

    def event(self, kind: str, within: float = LIMIT, **fields: object) -> Event:
        """The next event that matches. The journal is numbered, so none can be missed."""
        deadline = time.monotonic() + within
        while True:
            event = self._next(deadline)
            if event is None:
                raise AssertionError(f"no {kind} {fields}; {self.history()}")
            if event["kind"] == kind and fields.items() <= event.items():
                return event

    def _next(self, deadline: float) -> Event | None:
        """The next event; None: time is over, or the master has left."""
        if self._stream is None:
            return None
        self._sock.settimeout(max(0.01, deadline - time.monotonic()))
        try:
            line = self._stream.readline()
        except TimeoutError:
            return None
        if not line:
            return None
        event: Event = json.loads(line)
        self.seen.append(event)
        return event

    def wait_for(self, kind: str, pids: Iterable[int]) -> None:
        """Wait for an event of each of these processes, in whatever order they come."""
        left = set(pids)
        while left:
            left.discard(self.event(kind)["pid"])

    def rest(self) -> list[Event]:
        """Everything until the master has left; all that was ever seen."""
        deadline = time.monotonic() + LIMIT
        while self._next(deadline) is not None:
            pass
        return self.seen

    def rest_so_far(self) -> list[Event]:
        """Everything up to now."""
        latest = self.ask("status")["journal"]
        while not self.seen or self.seen[-1]["n"] < latest:
            assert self._next(time.monotonic() + LIMIT), self.history()
        return self.seen

    def find(self, kind: str, **fields: object) -> list[Event]:
        """Events seen so far that match."""
        return [e for e in self.seen if e["kind"] == kind and fields.items() <= e.items()]

    def history(self) -> str:
        events = "\n".join(json.dumps(event)[:300] for event in self.seen)
        return f"saw\n{events}\nin {self.place}, stderr ends\n{self.log()[-3000:]}"

    def log(self) -> str:
        return self.stderr.read_text(errors="replace")

    def ready(self) -> "Server":
        """Wait until the whole size is ready."""
        self.event("ready")
        return self

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of the first TCP listener."""
        names = [e["address"] for e in self.find("listening") if "unix:" not in e["address"]]
        host, _, port = names[0].partition("#")[0].rpartition(":")
        return host.strip("[]"), int(port)

    @property
    def url(self) -> str:
        host, port = self.address
        return f"http://{host}:{port}"

    def connect(self) -> http.client.HTTPConnection:
        """A keep-alive client."""
        return http.client.HTTPConnection(*self.address, timeout=LIMIT)

    def get(self, path: str = "/", connection: http.client.HTTPConnection | None = None) -> str:
        """One answer's body, over a fresh connection or a kept one."""
        client = connection or self.connect()
        client.request("GET", path)
        response = client.getresponse()
        body = response.read().decode()
        if connection is None:
            client.close()
        assert response.status == 200, (response.status, body, self.history())
        return body

    def until_draining(self, pid: int) -> None:
        """Wait until a worker that was told to leave has heard it."""
        while (pid, "draining") not in {(each["pid"], each["phase"]) for each in self.workers()}:
            pass  # the order is on its way to it

    def workers(self) -> list[dict[str, Any]]:
        """The workers, as `status` tells."""
        return list(self.ask("status")["workers"])

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def family(self) -> set[int]:
        """Every process of the session: master, zygotes, workers, and what they started."""
        return session(self.pid)

    def wait(self) -> int:
        """The exit status."""
        self.rest()
        return self.process.wait(LIMIT)

    def stop(self) -> int:
        """TERM, and nothing of it may be left: no process, no socket file."""
        if self.process.poll() is None:
            self.signal(signal.SIGTERM)
        code = self.wait()
        assert self.family() == set(), self.history()
        assert list(self.runtime.iterdir()) == [], self.history()
        return code

    def dispose(self) -> None:
        """End whatever a failed test left."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for pid in self.family():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if self._stream is not None:
            self._stream.close()
            self._sock.close()
        shutil.rmtree(self.runtime, ignore_errors=True)


def session(leader: int) -> set[int]:
    """Living processes whose session is the leader's (field 6 of /proc/<pid>/stat, proc(5))."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                if int(fields[3]) == leader and fields[0] != "Z":
                    found.add(int(entry.name))
    return found


@contextlib.contextmanager
def serving(
    place: Path,
    app: str = "tell:app",
    *options: str,
    workers: int = 2,
    cwd: str = "",
    **env: str,
) -> Iterator[Server]:
    """A cluster that is up, and gone without a trace afterwards with exit status 0."""
    options = ("-w", str(workers), "--min-ready", "0", *options)
    with running(place, app, *options, cwd=cwd, wrapper=(), keep=(), **env) as server:
        server.ready()
        yield server
        if server.process.poll() is None:
            assert server.stop() == 0, server.history()


@contextlib.contextmanager
def running(
    place: Path,
    app: str,
    *options: str,
    cwd: str = "",
    wrapper: tuple[str, ...] = (),
    keep: tuple[int, ...] = (),
    **env: str,
) -> Iterator[Server]:
    """A cluster as it is, up or not; killed afterwards if it is still there."""
    server = Server(place, app, *options, env=env, cwd=cwd, wrapper=wrapper, keep=keep)
    try:
        yield server
    except BaseException:
        print(f"the directory is kept: {place}\n{server.history()}", file=sys.stderr)
        raise
    finally:
        server.dispose()
