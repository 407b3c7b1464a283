"""A server that is started for the benchmark: its command filled in, waited for, ended whole."""

import fcntl
import json
import os
import random
import re
import select
import shlex
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from clusterd.bench import guard
from clusterd.bench.errors import ServerFailed
from clusterd.bench.load import Target
from clusterd.bench.results import Side
from clusterd.bench.tree import Tree, descendants
from clusterd.core.errors import ConfigError

HOST = "127.0.0.1"
PORTS_FROM = 10_000
LAST = 2000  # bytes of its output that errors show
KEPT = 64 * 1024  # bytes of output kept when there is more than
TOO_MUCH = 4 * 1024 * 1024
NOT_FOR_IT = {"LISTEN_FDS", "LISTEN_PID", "NOTIFY_SOCKET", "RUNTIME_DIRECTORY", "WEB_CONCURRENCY"}
_GUARD_LIMIT = 30.0  # seconds until the guard has run the command
_TRY_AGAIN = 0.02  # seconds between two questions whether it answers
_ANSWER = 5.0  # seconds that the first question waits; each further one twice as long
_CALM = 0.05  # seconds; in two such it uses little CPU time when it has started
_BUSY = 0.2  # share of a core
_CALM_LIMIT = 5.0  # seconds


def _environment() -> dict[str, str]:
    """Ours, without what would tell the server that it is someone else's: systemd's, and how many
    workers it has."""
    return {name: value for name, value in os.environ.items() if name not in NOT_FOR_IT}


def free_port() -> int:
    """A TCP port that nobody uses just now, below those of clients' sockets where there is one:
    else a connection of the generator's could take it before the server does."""
    with suppress(OSError, ValueError):
        text = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text()
        for port in random.sample(range(PORTS_FROM, int(text.split()[0])), 20):
            with suppress(OSError), socket.create_server((HOST, port)):
                return port
    with socket.create_server((HOST, 0)) as sock:
        return int(sock.getsockname()[1])


def filled(command: str, words: Mapping[str, str]) -> list[str]:
    """The command as a list, `{port}` and the other words replaced; other braces are left alone.

    Raises ConfigError where it cannot be split, or has no {port}: it would serve elsewhere.
    """
    try:
        parts = shlex.split(command)
    except ValueError as error:
        raise ConfigError(f"the command {command!r} cannot be read: {error}") from error
    if "{port}" not in command:
        raise ConfigError(
            f"the command {command!r} does not say {{port}}",
            "Write {port} where the server is told on which port of 127.0.0.1 to listen.",
        )
    known = re.compile("|".join(re.escape(f"{{{name}}}") for name in words))
    return [known.sub(lambda found: words[found[0][1:-1]], part) for part in parts]


class Server:
    """`with Server(side, command) as server:` it runs and answers; afterwards nothing is left.

    `words` are filled into the command beside {port}, {workers}, {python} and {folder}, an empty
    directory of its own that is XDG_RUNTIME_DIR too; `env` is added to our environment. Pinned to
    `cpus`, () for all. Limits in seconds. Raises ServerFailed where it does not come up.
    """

    def __init__(
        self,
        side: Side,
        command: str,
        *,
        words: Mapping[str, str] | None = None,
        env: Mapping[str, str] | None = None,
        cwd: str = "",
        scheme: str = "http",
        path: str = "/",
        cpus: Sequence[int] = (),
        start_limit: float = 60.0,
        stop_limit: float = 10.0,
    ) -> None:
        self.side = side
        self.port = 0
        self.pid = 0
        self.folder = ""
        self._command = command
        self._words = dict(words or {})
        self._env = dict(env or {})
        self._cwd = cwd
        self._scheme = scheme
        self._path = path
        self._cpus = tuple(cpus)
        self._start_limit = start_limit
        self._stop_limit = stop_limit
        self._guard: subprocess.Popen[bytes] | None = None
        self._output: IO[bytes] | None = None
        self._kept = b""
        self._heard = b""
        self._ended = ""

    def __enter__(self) -> "Server":
        try:
            self._start()
            self._wait_answering()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def target(self, path: str = "/") -> Target:
        """Where it serves."""
        return Target(self._scheme, HOST, self.port, path, verify=False)

    def tree(self) -> Tree:
        """What its processes use, from now on."""
        return Tree(self._guard.pid if self._guard else 0)

    # Start

    def _start(self) -> None:
        self.port = free_port()
        self.folder = tempfile.mkdtemp(prefix="clusterd-bench-")
        words = {
            "port": str(self.port),
            "workers": str(self.side.workers or 1),
            "python": sys.executable,
            "folder": self.folder,
            **self._words,
        }
        order = {
            "command": filled(self._command, words),
            "cwd": self._cwd,
            "env": {**_environment(), "XDG_RUNTIME_DIR": self.folder, **self._env},
            "cpus": self._cpus,
            "folder": self.folder,
            "stop_limit": self._stop_limit,
        }
        # It has no name, so that it is gone with us; appended to, so that it can be shortened.
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 - until stop()
        fcntl.fcntl(self._output, fcntl.F_SETFL, os.O_APPEND)
        self._guard = subprocess.Popen(
            [sys.executable, "-I", "-S", guard.__file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._output,
            start_new_session=True,  # Ctrl-C is for us; we end it in order
            bufsize=0,
        )
        self._order(json.dumps(order).encode() + b"\n")
        told = self._told(_GUARD_LIMIT)
        if "started" not in told:
            why = told.get("failed", "it does not run yet")
            raise ServerFailed(f"{self.side.name} cannot be started: {why}")
        self.pid = int(told["started"])

    def _order(self, line: bytes) -> None:
        if self._guard is not None and self._guard.stdin is not None:
            with suppress(OSError):
                while line:
                    line = line[self._guard.stdin.write(line) or 0 :]

    def _told(self, within: float) -> dict[str, Any]:
        """The guard's next line, {} where there is none in time; `failed` where it has gone."""
        if self._guard is None or self._guard.stdout is None:
            return {}
        deadline = time.monotonic() + within
        while b"\n" not in self._heard:
            left = max(0.0, deadline - time.monotonic())
            if not select.select([self._guard.stdout], [], [], left)[0]:
                return {}
            if not (data := self._guard.stdout.read(4096)):
                return {"failed": "its guard was killed"}
            self._heard += data
        line, _, self._heard = self._heard.partition(b"\n")
        told: dict[str, Any] = json.loads(line)
        return told

    def _wait_answering(self) -> None:
        """Until it answers a request, and is done with starting."""
        asked, wait = time.monotonic(), _ANSWER
        deadline = asked + self._start_limit
        while not self._answers(wait):
            if how := self.ended():
                raise ServerFailed(f"{self.side.name} {how} before it served", self.quoted())
            if time.monotonic() >= deadline:
                raise ServerFailed(
                    f"{self.side.name} does not answer on port {self.port} after "
                    f"{self._start_limit:g} s",
                    self.quoted(),
                )
            if time.monotonic() - asked >= wait:
                wait *= 2  # it is slow, and not yet to be asked from the beginning
            time.sleep(_TRY_AGAIN)
            asked = time.monotonic()
        self._wait_calm()

    def _answers(self, within: float) -> bool:
        """Whether it sends anything for a request; that it accepts may be its backlog alone."""
        request = f"GET {self._path} HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n"
        with suppress(OSError), socket.create_connection((HOST, self.port), within) as plain:
            if self._scheme in ("https", "wss"):
                context = ssl.create_default_context()
                context.check_hostname = False
                context.verify_mode = ssl.CERT_NONE
                with context.wrap_socket(plain) as sock:
                    sock.sendall(request.encode())
                    return bool(sock.recv(1))
            plain.sendall(request.encode())
            return bool(plain.recv(1))
        return False

    def _wait_calm(self) -> None:
        """Until its other workers have started too, as far as one can see: it does not compute."""
        tree = self.tree()
        deadline = time.monotonic() + _CALM_LIMIT
        last, calm = tree.look(), 0
        while calm < 2 and time.monotonic() < deadline:
            time.sleep(_CALM)
            now = tree.look()
            share = (now.cpu - last.cpu) / (now.at - last.at)
            calm = calm + 1 if share < _BUSY else 0
            last = now

    # While it runs

    def ended(self) -> str:
        """How it ended by itself, as "exited with 3" or "was killed by SIGSEGV"; "" if it runs."""
        if not self._ended and (told := self._told(0)):
            self._ended = how(told["ended"]) if "ended" in told else str(told.get("failed", told))
        return self._ended

    def said(self, most: int = LAST) -> str:
        """The end of what it wrote, at most so many bytes."""
        if self._output is None:
            return self._kept[-most:].decode(errors="replace")
        with suppress(OSError):
            size = os.fstat(self._output.fileno()).st_size
            tail = os.pread(self._output.fileno(), most, max(0, size - most))
            return (self._kept + tail)[-most:].decode(errors="replace")
        return ""

    def shorten(self) -> None:
        """Forget the beginning of its output where that gets large: access logs fill disks."""
        if self._output is not None:
            size = os.fstat(self._output.fileno()).st_size
            if size > TOO_MUCH:
                self._kept = os.pread(self._output.fileno(), KEPT, max(0, size - KEPT))
                os.ftruncate(self._output.fileno(), 0)

    def quoted(self) -> str:
        """The same, as the end of a message."""
        said = self.said().strip()
        return f"It said:\n{said}" if said else "It said nothing."

    # End

    def stop(self) -> None:
        """SIGTERM; after `stop_limit`, or at a second Ctrl-C, SIGKILL for what is left."""
        guard_process = self._guard
        if guard_process is not None:
            try:
                self._order(b"stop\n")
                self._wait_gone(guard_process, self._stop_limit + 2 * guard.KILL_LIMIT)
            except BaseException:
                self._order(b"kill\n")
                self._wait_gone(guard_process, 2 * guard.KILL_LIMIT)
                raise
            finally:
                self._let_go(guard_process)
        elif self.folder:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _wait_gone(self, guard_process: subprocess.Popen[bytes], limit: float) -> None:
        try:
            guard_process.wait(limit)
        except subprocess.TimeoutExpired:
            for one in descendants(guard_process.pid):
                with suppress(ProcessLookupError):
                    os.kill(one.pid, signal.SIGKILL)
            guard_process.kill()
            guard_process.wait()

    def _let_go(self, guard_process: subprocess.Popen[bytes]) -> None:
        """Close what we hold; it cannot be interrupted into keeping half of it."""
        self._guard = None
        self._kept = self.said(KEPT).encode()
        for file in (guard_process.stdin, guard_process.stdout, self._output):
            if file is not None:
                with suppress(OSError):
                    file.close()
        self._output = None
        shutil.rmtree(self.folder, ignore_errors=True)  # the guard does, unless it was killed


def how(status: int) -> str:
    """A wait status in words."""
    code = os.waitstatus_to_exitcode(status)
    return f"exited with {code}" if code >= 0 else f"was killed by {signal.Signals(-code).name}"
