"""`clusterd top` in a real terminal, under tmux, beside a real cluster."""

import contextlib
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import pytest

from tests.support.server import LIMIT, ROOT, Server, serving

TMUX = shutil.which("tmux") or ""


class Terminal:
    """A terminal of its own tmux server, in which one command runs."""

    def __init__(self, socket: Path, command: str, width: int = 80, height: int = 24) -> None:
        self.socket = socket
        # What is left of the screen once the command has ended stays to be looked at.
        self._tmux("-f", os.devnull, "new-session", "-d", "-x", str(width), "-y", str(height),
                   f"{command}; echo left with $?; exec cat")  # fmt: skip

    def _tmux(self, *args: str) -> str:
        command = [TMUX, "-S", str(self.socket), *args]
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=True)
        return done.stdout

    def press(self, *keys: str) -> None:
        self._tmux("send-keys", *keys)

    def resize(self, width: int, height: int) -> None:
        self._tmux("resize-window", "-x", str(width), "-y", str(height))

    def screen(self) -> list[str]:
        return self._tmux("capture-pane", "-p").splitlines()

    def shows(self, pattern: str) -> list[str]:
        """The screen once it shows this; it may take a look or two at the cluster."""
        deadline = time.monotonic() + LIMIT
        while not re.search(pattern, "\n".join(screen := self.screen()), re.MULTILINE):
            assert time.monotonic() < deadline, f"no {pattern!r} in\n" + "\n".join(screen)
        return screen

    def close(self) -> None:
        with contextlib.suppress(subprocess.CalledProcessError):
            self._tmux("kill-server")


@contextlib.contextmanager
def top(server: Server, *options: str, **environ: str) -> Iterator[Terminal]:
    """A terminal with `clusterd top` in it."""
    words = [f"{name}={value}" for name, value in {"PYTHONPATH": str(ROOT), **environ}.items()]
    words = ["env", *words, sys.executable, "-m", "clusterd.cli.main", "top", *options]
    command = " ".join([*words, "--interval 0.1 --runtime-dir", str(server.runtime)])
    terminal = Terminal(server.runtime.with_suffix(".tmux"), command)
    try:
        yield terminal
    finally:
        terminal.close()
        server.runtime.with_suffix(".tmux").unlink(missing_ok=True)


@pytest.mark.skipif(not TMUX, reason="tmux is not installed")
def test_a_person_watches_scales_dumps_and_reloads(tmp_path: Path) -> None:
    with serving(tmp_path, "tell:app", workers=2) as server, top(server) as terminal:
        screen = terminal.shows(
            r"is serving, 2 of 2 ready, generation 1.*\n" + 2 * r"(.*\n)+.* ready "
        )
        pids = {worker["pid"] for worker in server.workers()}
        assert {int(line.split()[1]) for line in screen if " ready " in line[:30]} == pids
        assert screen[-1].startswith("q leave")
        for _ in range(50):
            server.get("/")
        terminal.shows(r" [0-9.]+ms | [0-9]+us ")  # latencies of the last two seconds

        terminal.press("+")
        assert server.event("scaled")["size"] == 3
        terminal.shows("3 of 3 ready")
        terminal.press("-")
        terminal.shows("one worker fewer in web")
        terminal.press("n")
        terminal.shows("^not done")
        terminal.press("-", "y")
        assert server.event("scaled")["size"] == 2

        terminal.press("Down", "d")
        chosen = terminal.shows("^worker=")[4]
        assert int(chosen.rpartition("pid=")[2]) in pids
        terminal.shows("thread MainThread")
        terminal.press("q", "R", "y")
        old = int(chosen.rpartition("pid=")[2])
        assert server.event("exited", pid=old)["asked"]
        terminal.shows("slot . is served by process")
        terminal.press("r")
        terminal.shows("roll in new code")
        terminal.press("y")
        server.event("rollout_finished", generation=2)
        terminal.shows("2 of 2 ready, generation 2")

        terminal.press("Escape")
        terminal.resize(60, 12)
        screen = terminal.shows(r"^q leave  up/down choose  \+/- scale  r reload  d dump  s sor")
        assert len(screen) == 12
        assert max(map(len, screen)) <= 60
        terminal.press("h")
        terminal.shows("tab   choose the next group")
        terminal.press("q", "q")
        terminal.shows("^left with 0")


@pytest.mark.skipif(not TMUX, reason="tmux is not installed")
def test_a_lost_cluster_is_waited_for_and_ctrl_c_leaves_the_terminal_as_it_was(
    tmp_path: Path,
) -> None:
    with serving(tmp_path, "tell:app", workers=1) as server, top(server, NO_COLOR="1") as terminal:
        terminal.shows("1 of 1 ready")
        assert server.stop() == 0
        terminal.shows("^looking again: no cluster runs")
        terminal.press("C-c")
        terminal.shows("^left with 130")


def test_a_term_puts_the_terminal_back(tmp_path: Path) -> None:
    """Else the shell afterwards would neither echo nor break lines, on a screen without cursor."""
    control, terminal = os.openpty()
    termios.tcsetwinsize(terminal, (24, 80))
    before = termios.tcgetattr(terminal)
    with (
        serving(tmp_path, "tell:app", workers=1) as server,
        open(control, "rb", buffering=0) as screen,
        open(terminal, "rb", buffering=0),
    ):
        place = ["--interval", "0.1", "--runtime-dir", str(server.runtime)]
        with subprocess.Popen(
            [sys.executable, "-m", "clusterd.cli.main", "top", *place],
            env={**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm"},
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            start_new_session=True,
        ) as process:
            shown = read_until(screen, b"1 of 1 ready")
            assert not termios.tcgetattr(terminal)[3] & termios.ECHO
            assert ALTERNATE in shown
            process.send_signal(signal.SIGTERM)
            read_until(screen, MAIN_SCREEN)
            assert process.wait(LIMIT) == 128 + signal.SIGTERM
        assert termios.tcgetattr(terminal) == before


ALTERNATE, MAIN_SCREEN = b"\x1b[?1049h", b"\x1b[?1049l"  # of xterm: terminfo's smcup and rmcup


def read_until(screen: BinaryIO, text: bytes) -> bytes:
    """All that came on a terminal until this did."""
    came = b""
    while text not in came:
        assert select.select([screen], [], [], LIMIT)[0], came
        came += screen.read(4096)
    return came


def test_without_a_terminal_one_page_is_printed(tmp_path: Path) -> None:
    with serving(tmp_path, "tell:app", workers=2) as server:
        place = ["--interval", "0.1", "--runtime-dir", str(server.runtime)]
        for options, environ in (([], {}), (["--once"], {"COLUMNS": "60"})):
            done = subprocess.run(
                [sys.executable, "-m", "clusterd.cli.main", "top", *options, *place],
                env={**os.environ, "PYTHONPATH": str(ROOT), **environ},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=LIMIT,
                check=True,
            )
            lines = done.stdout.splitlines()
            assert lines[0].startswith("clusterd: tell:app is serving, 2 of 2 ready")
            assert [line.split()[0] for line in lines[-2:]] == ["0", "1"]
            assert done.stderr == ""
        assert max(map(len, lines)) <= 60
