"""A cluster that a soak works on, with its clients and its files; and what is seen of it."""

import http.client
import os
import shutil
import signal
import socket
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from clusterd.core.errors import ClusterdError
from tests.soak.clients import Load
from tests.soak.judges import Observation
from tests.support.crowd import Connection, Refused
from tests.support.server import Server

SETTLE = 60.0  # seconds in which a cluster must come to rest
LOOK = 0.05  # seconds between two looks at it
PROBES = 6  # responses that say which version serves
APP = '''"""Version {version}, for a soak."""


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while (message := await receive())["type"] == "lifespan.startup":
            await send({{"type": "lifespan.startup.complete"}})
        await send({{"type": "lifespan.shutdown.complete"}})
    elif scope["type"] == "websocket":
        await receive()
        await send({{"type": "websocket.accept"}})
        while (message := await receive())["type"] == "websocket.receive":
            await send({{"type": "websocket.send", "text": message["text"]}})
    else:
        await send({{"type": "http.response.start", "status": 200, "headers": []}})
        await send({{"type": "http.response.body", "body": b"{version}"}})
'''
BROKEN = {
    "syntax": "def app(:\n",
    "import": "raise RuntimeError('broken on purpose')\n",
    "startup": """async def app(scope, receive, send):
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "broken on purpose"})
""",
    "exit": "import sys\nsys.exit(1)\n",
}


class World:
    """One cluster after another, at one address."""

    def __init__(self) -> None:
        self.place = Path(tempfile.mkdtemp(prefix="clusterd-soak-"))
        self.other = str(self.place / "other.sock")
        self.port = _free_port()
        self.size, self.version = 2, 1
        self.is_paused = self.has_other = self.may_fail = False
        self.settings: dict[str, str] = {}
        self.exits: list[int] = []
        self.left = 0
        self._bugs: list[str] = []
        self._starts = 0
        self._counters: dict[str, int] = {}
        self.write_app()
        self.start()
        self.load = Load(("127.0.0.1", self.port), self.other)
        self._await_rest()
        self._at_first = self._usage(self.server.ask("status"))

    # --- what operations do

    def write_app(self, text: str = "") -> None:
        """Today's version of the application, or this text in its place."""
        (self.place / "soaked.py").write_text(text or APP.format(version=self.version))

    def write_settings(self) -> None:
        bind = [f"127.0.0.1:{self.port}", *([f"unix:{self.other}"] if self.has_other else [])]
        lines = ['app = "soaked:app"', f"bind = {bind!r}", f"workers = {self.size}"]
        lines += [f"{name} = {value}" for name, value in self.settings.items()]
        (self.place / "clusterd.toml").write_text("[web]\n" + "\n".join(lines) + "\n")

    def start(self) -> None:
        self.write_settings()
        self._starts += 1
        logs = self.place / f"start{self._starts}"
        logs.mkdir()
        self.server = Server(
            logs,
            "",
            *("--min-ready", "0", "--app-dir", str(self.place), "--graceful-timeout", "20s"),
            from_file=True,
            cwd=str(self.place),
        )
        self.server.ready()
        self.is_paused = False
        self._counters = {}

    def ask(self, command: str, **args: Any) -> dict[str, Any]:
        """A command's reply; what the cluster refuses, it may refuse."""
        try:
            return self.server.ask(command, **args)
        except ClusterdError as error:
            return {"refused": error.message}

    def reload(self) -> dict[str, Any]:
        self.write_settings()
        reply = self.ask("reload", wait=True)
        self.is_paused = False  # it ends a pause, also where it fails
        return reply

    def pids(self) -> list[int]:
        """The ready workers, by slot."""
        return [one["pid"] for one in self.server.workers() if one["phase"] == "ready"]

    def kill(self, pid: int) -> None:
        self.may_fail = True
        os.kill(pid, signal.SIGKILL)

    def stop(self) -> None:
        self.server.signal(signal.SIGTERM)
        self._ended()
        self.exits.append(self.server.process.returncode)

    def kill_master(self) -> None:
        """Its workers finish what they have in hand, and what waits in the queue.

        In a pause there is none, and the kernel resets what waits once the listener's last copy
        is closed.
        """
        self.may_fail = self.may_fail or self.is_paused
        self.server.process.kill()
        self._ended()

    def _ended(self) -> None:
        """Until the master and all that was its own have left."""
        self._bugs = self._bugs_logged()
        self.server.process.wait(SETTLE)
        self._until(lambda: not self.server.family())
        self.left += len(self.server.family())
        self._bugs += self._bugs_logged()
        self.server.dispose()

    def dispose(self) -> None:
        self.load.end()
        self.server.dispose()
        shutil.rmtree(self.place, ignore_errors=True)

    # --- what is seen

    def observe(self, operation: str) -> Observation:
        """The cluster, once it has come to rest, or had the time to."""
        self._await_rest()
        status = self.server.ask("status")
        seen = Observation(operation, 0 if self.is_paused else self.size)
        seen.phases = [one["phase"] for one in status["workers"]]
        seen.generations = {one["generation"] for one in status["workers"]}
        seen.rolling = status["rollout"] is not None
        if not self.is_paused:
            seen.versions = {self._probe() for _ in range(PROBES)}
        seen.failures, seen.may_fail = self.load.take_failures(), self.may_fail
        self.may_fail = False
        seen.descriptors, seen.memory = self._usage(status)
        seen.descriptors_at_first, seen.memory_at_first = self._at_first
        seen.numbers = [event["n"] for event in self.server.rest_so_far()]
        seen.counters_before, seen.counters = self._counters, status["totals"]
        self._counters = status["totals"]
        seen.exits, self.exits = self.exits, []
        seen.left, self.left = self.left, 0
        seen.bugs, self._bugs = [*self._bugs, *self._bugs_logged()], []
        return seen

    def _await_rest(self) -> None:
        self._until(self._is_at_rest)

    def _is_at_rest(self) -> bool:
        status = self.server.ask("status")
        phases = [one["phase"] for one in status["workers"]]
        wanted = ["ready"] * (0 if self.is_paused else self.size)
        zygotes = all(one["phase"] == "loaded" for one in status["zygotes"])
        return phases == wanted and zygotes and status["rollout"] is None

    def _until(self, done: Any) -> None:
        deadline = time.monotonic() + SETTLE
        while not done() and time.monotonic() < deadline:
            threading.Event().wait(LOOK)

    def _probe(self) -> str:
        connection = Connection(("127.0.0.1", self.port))
        try:
            connection.request("GET", "/", headers={"Connection": "close"})
            return connection.getresponse().read().decode()
        except (OSError, http.client.HTTPException, Refused) as error:
            return repr(error)
        finally:
            connection.close()

    def _usage(self, status: dict[str, Any]) -> tuple[int, int]:
        """Descriptors of the master beside those of its parts, and bytes of its memory."""
        process = Path(f"/proc/{self.server.pid}")
        parts = 2 * len(status["workers"]) + len(status["zygotes"]) + len(status["listeners"])
        memory = int((process / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        return len(os.listdir(process / "fd")) - parts, memory

    def _bugs_logged(self) -> list[str]:
        return [line for line in self.server.log().splitlines() if "bug in clusterd" in line]


def _free_port() -> int:
    """A port that clients find again after each start."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])
