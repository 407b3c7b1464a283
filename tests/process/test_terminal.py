"""A cluster at a terminal: its applications can write there, and neither read nor type."""

import contextlib
import fcntl
import http.client
import json
import os
import pty
import re
import signal
import subprocess
import sys
import tempfile
import termios
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from clusterd.core.exits import Exit
from tests.support.rights import opening
from tests.support.server import LIMIT, ROOT

APP = """
import json, os

def state():
    fields = open("/proc/self/stat").read().rpartition(")")[2].split()
    flags = {fd: open(f"/proc/self/fdinfo/{fd}").read().split()[3] for fd in (0, 1, 2)}
    for fd in os.listdir("/proc/self/fd"):
        if os.path.exists(f"/proc/self/fd/{fd}") and os.isatty(int(fd)):
            flags[fd] = open(f"/proc/self/fdinfo/{fd}").read().split()[3]
    return {
        "group": os.getpgrp(),
        "session": os.getsid(0),
        "terminal": int(fields[4]),
        "stdin": os.path.realpath("/proc/self/fd/0"),
        "flags": flags,
    }

AT_IMPORT = state()

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    if scope["path"] == "/debug":
        breakpoint()
    body = json.dumps([AT_IMPORT, state()]).encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})
"""
# What a login shell is to a terminal, and a job in the foreground to the shell.
LEAD = """
import fcntl, os, sys, termios
os.setsid()
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execvp(sys.argv[1], sys.argv[1:])
"""


class Terminal:
    """A terminal with a cluster in the foreground."""

    def __init__(self, fd: int, process: subprocess.Popen[bytes]) -> None:
        self.fd = fd
        self.process = process
        self.text = ""

    def shows(self, pattern: str) -> re.Match[str]:
        """Read on until this is there."""
        while (found := re.search(pattern, self.text)) is None:
            try:
                data = os.read(self.fd, 65536)
            except OSError:  # EIO: nobody writes any more
                raise AssertionError(f"no {pattern!r} in\n{self.text}") from None
            self.text += data.decode().replace("\r\n", "\n")
        return found

    def type(self, keys: str) -> None:
        os.write(self.fd, keys.encode())

    def get(self, path: str = "/") -> Any:
        port = int(self.shows(r" ready on http://127\.0\.0\.1:(\d+)")[1])
        client = http.client.HTTPConnection("127.0.0.1", port, timeout=LIMIT)
        client.request("GET", path)
        body = client.getresponse().read()
        client.close()
        return json.loads(body)


@contextlib.contextmanager
def at_a_terminal(place: Path, *options: str, wrapper: tuple[str, ...] = ()) -> Iterator[Terminal]:
    (place / "shop.py").write_text(APP)
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "clusterd.cli.main", "run", "shop:app", "-b", "127.0.0.1:0"]
    with subprocess.Popen(
        [sys.executable, "-c", LEAD, *wrapper, *command, "-w", "1", *options],
        cwd=place,
        env={**os.environ, "PYTHONPATH": str(ROOT), "CLUSTERD_RUNTIME_DIR": str(place)},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    ) as process:
        os.close(theirs)
        try:
            terminal = Terminal(ours, process)
            yield terminal
            process.send_signal(signal.SIGTERM)
            terminal.shows("stopped code=0")
            assert process.wait(LIMIT) == Exit.OK
        finally:
            process.kill()
            os.close(ours)


@pytest.mark.parametrize("preload", ["auto", "never"])
def test_applications_neither_read_nor_type(tmp_path: Path, preload: str) -> None:
    with at_a_terminal(tmp_path, "--preload", preload) as terminal:
        master = terminal.process.pid
        for state in terminal.get():
            assert state["terminal"] == 0, "or it could push input with TIOCSTI"
            assert state["group"] != os.tcgetpgrp(terminal.fd) == master
            assert state["session"] == master, "else what it starts would count as a daemon"
            assert state["stdin"] == "/dev/null"
            for fd, flags in state["flags"].items():
                assert fd == "0" or int(flags, 8) & os.O_ACCMODE == os.O_WRONLY, fd
        terminal.type("\x03")  # Ctrl-C, which is the master's
        terminal.shows("signalled signal=SIGINT\n")
        terminal.shows("exited worker=0 .* code=0")


@contextlib.contextmanager
def opened_folder() -> Iterator[Path]:
    """A directory that other users may enter, as pytest's may not be."""
    with tempfile.TemporaryDirectory(prefix="clusterd-") as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize("options", [(), ("--dev",)])
def test_workers_of_another_user_neither_read_nor_type(options: tuple[str, ...]) -> None:
    """Not even with --dev: what they typed, root's shell would run."""
    wrapper = opening()
    if wrapper is None:
        pytest.skip("the interpreter is closed to others, and no mount namespace can open it")
    more = ("--user", "nobody", *options)
    with (
        opened_folder() as folder,
        at_a_terminal(folder, *more, wrapper=wrapper) as terminal,
    ):
        for state in terminal.get():
            assert state["terminal"] == 0
            for fd, flags in state["flags"].items():
                assert fd == "0" or int(flags, 8) & os.O_ACCMODE == os.O_WRONLY, fd


def test_a_debugger_has_the_terminal_with_dev(tmp_path: Path) -> None:
    with at_a_terminal(tmp_path, "--dev") as terminal:
        terminal.shows(" ready on ")
        body: list[Any] = []
        request = threading.Thread(target=lambda: body.append(terminal.get("/debug")))
        request.start()
        terminal.shows(r"\(Pdb\) ")
        terminal.type("p 6 * 7\n")
        terminal.shows(r"\n42\n")
        terminal.type("c\n")
        request.join(LIMIT)
        assert body[0][0]["stdin"].startswith("/dev/pts/")


def test_the_terminal_itself_stays_as_it_is(tmp_path: Path) -> None:
    """What our processes change of their descriptors is theirs alone: the shell shares them."""
    with at_a_terminal(tmp_path) as terminal:
        before = termios.tcgetattr(terminal.fd)
        terminal.get()
        assert termios.tcgetattr(terminal.fd) == before
        assert fcntl.fcntl(terminal.fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDWR
