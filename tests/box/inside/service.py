"""A service of systemd's in the box: made by `clusterd systemd`, steered by systemctl."""

import http.client
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

UNITS = Path("/etc/systemd/system")
LIMIT = 30.0  # seconds until a wait is a failure
CLUSTERD = (sys.executable, "-m", "clusterd.cli.main")
APP = """\
import os

VERSION = {version!r}

async def app(scope, receive, send):
    if scope["type"] == "http":
        text = f"{{VERSION}} {{os.getppid()}} {{sorted(os.environ)}}".encode()
        await send({{"type": "http.response.start", "status": 200, "headers": []}})
        await send({{"type": "http.response.body", "body": text}})
"""


def call(*command: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command and keep what it says."""
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd)


def systemctl(*words: str) -> str:
    """What systemctl says; it must succeed."""
    done = call("systemctl", "--no-pager", *words)
    assert done.returncode == 0, (
        words,
        done.stderr,
        call("journalctl", "-o", "cat").stdout[-4000:],
    )
    return done.stdout


def systemd() -> int:
    """Return the version of the systemd that runs."""
    return int(call("systemctl", "--version").stdout.split()[1])


class Service:
    """One service, its code and its place."""

    def __init__(self, name: str, port: int, *options: str) -> None:
        self.name, self.port = name, port
        self.home = Path("/srv", name)
        self.home.mkdir(parents=True)
        self.write("one")
        words = ("systemd", "shop:app", "-b", f"127.0.0.1:{port}", "--unit", name, *options)
        done = call(*CLUSTERD, *words, "--output-dir", str(UNITS), cwd=self.home)
        assert done.returncode == 0, done.stderr

    def write(self, version: str, broken: bool = False) -> None:
        """Have other code on disk."""
        text = "import nothing_of_this_name\n" if broken else APP.format(version=version)
        (self.home / "shop.py").write_text(text)

    def change(self, *lines: str) -> None:
        """Say something else than the unit does; systemd.unit(5), drop-ins."""
        place = UNITS / f"{self.name}.service.d" / "test.conf"
        place.parent.mkdir(exist_ok=True)
        place.write_text("\n".join(["[Service]", *lines, ""]))
        systemctl("daemon-reload")

    def show(self, key: str) -> str:
        """A property, systemctl(1)."""
        return systemctl("show", "--value", "-p", key, self.name).strip()

    @property
    def pid(self) -> int:
        """The master's."""
        return int(self.show("MainPID"))

    def get(self) -> str:
        """One answer, over a fresh connection."""
        client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=LIMIT)
        client.request("GET", "/")
        text = client.getresponse().read().decode()
        client.close()
        return text

    def version(self) -> str:
        return self.get().split()[0]

    def ask(self) -> socket.socket:
        """A request that nobody need be there to read: it waits in the queue."""
        client = socket.create_connection(("127.0.0.1", self.port), LIMIT)
        client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        return client

    def until(self, is_so: Callable[[], bool]) -> None:
        """Ask systemd until something is so; pytest's own limit ends it otherwise."""
        while not is_so():
            pass  # each look is a process that asks systemd

    def until_down(self) -> None:
        """Wait until the dead service is gone for the moment, and is to be started anew."""
        self.until(lambda: self.show("SubState") == "auto-restart")

    def kill(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def crash(self) -> None:
        """Kill the master, and wait until systemd has started another that is ready."""
        before = self.pid
        self.kill(signal.SIGKILL)
        self.until(lambda: self.pid not in (0, before) and self.show("ActiveState") == "active")


def answer(client: socket.socket) -> str:
    """All that comes, and the connection's end."""
    with client:
        pieces = []
        while piece := client.recv(65536):
            pieces.append(piece)
    return b"".join(pieces).decode()
