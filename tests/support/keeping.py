"""A zygote of a command group and its keepers, with the test in the master's place."""

import contextlib
import os
import select
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from clusterd.config.running import CommandSettings, FleetSettings
from clusterd.config.settings import Config, LogSettings, PlaceSettings
from clusterd.ipc.channel import Channel, Closed
from clusterd.ipc.messages import Boot, Drain, Loaded, Message, Ready, Spawn
from clusterd.ipc.scoreboard import Cell, Scoreboard
from clusterd.kernel.process import kill_pidfd, open_pidfd

ROOT = Path(__file__).parents[2]
LIMIT = 30.0  # seconds until a wait is a failure
M = TypeVar("M")


def settings(*argv: str, place: Path, graceful: float = 25.0, **command: Any) -> Config:
    """Of a group that runs `argv`, or the Python code that is its only word."""
    if len(argv) == 1:
        argv = (sys.executable, "-uc", argv[0])
    given = {"directory": str(place), "ready_after": 0.0, **command}
    return replace(
        Config(),
        command=CommandSettings(command=argv, **given),
        fleet=FleetSettings(workers=1, graceful_timeout=graceful),
        log=LogSettings(log_format="json"),
        place=PlaceSettings(runtime_dir=str(place)),
    )


class Ear:
    """One end of a channel: what the other side says, in order."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.heard: list[Message] = []

    def next(self) -> Message | None:
        """The next message; None at the end."""
        assert select.select([self.channel], [], [], LIMIT)[0], f"silence after {self.heard}"
        received = self.channel.receive()
        if received is None or isinstance(received, Closed):
            return None
        self.heard.append(received[0])
        return received[0]

    def until(self, kind: type[M]) -> M:
        """The next message of a kind."""
        while (message := self.next()) is not None:
            if isinstance(message, kind):
                return message
        raise AssertionError(f"no {kind.__name__}, but {self.heard}")

    def rest(self) -> list[Message]:
        """Everything until the end."""
        while self.next() is not None:
            pass
        return self.heard


class Keeper(Ear):
    """A keeper that was ordered into a slot."""

    def __init__(self, group: "Zygote", slot: int, row: int, channel: Channel) -> None:
        super().__init__(channel)
        self.group = group
        self.row = group.board.row(row)
        self.slot = slot

    def ready(self) -> "Keeper":
        self.until(Ready)
        return self

    def say(self, message: Message) -> None:
        assert self.channel.send(message)

    def drain(self, within: float = 25.0) -> list[Message]:
        """Have it end; all that it said."""
        self.say(Drain("stop", within, last=True))
        return self.rest()

    @property
    def pid(self) -> int:
        return int(self.row[Cell.PID])

    @property
    def program(self) -> int:
        """The pid of the program."""
        return int(self.row[Cell.COMMAND])


class Zygote(Ear):
    """The process that forks them, its log in a file."""

    def __init__(
        self,
        place: Path,
        config: Config,
        log_fd: int | None = None,
        wrapper: tuple[str, ...] = (),
    ) -> None:
        self.log = place / "log"
        self.place, self.config = place, config
        self.board = Scoreboard.create()
        self.rows = 0
        ours, theirs = Channel.pair()
        super().__init__(ours)
        command = [sys.executable, "-P", "-m", "clusterd.child", "zygote", str(theirs.fileno())]
        with self.log.open("ab") as log:
            fd = log.fileno() if log_fd is None else log_fd
            # Sent before it starts, as a master does that knows what it wants.
            self.channel.send(Boot("crew", 1, config.to_wire(), []), [self.board.fd, fd])
            self.process = subprocess.Popen(
                [*wrapper, *command],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
            )
        theirs.close()
        self.keepers: list[Keeper] = []

    def loaded(self) -> "Zygote":
        self.until(Loaded)
        return self

    def keeper(self, slot: int = 0, *listeners: socket.socket) -> Keeper:
        """Order one."""
        ours, theirs = Channel.pair()
        pair = socket.socketpair()
        read, write = os.pipe()
        lock = self._lock(slot)
        fds = [theirs.fileno(), write, *(one.fileno() for one in pair), *lock]
        fds += [one.fileno() for one in listeners]
        names = [f"127.0.0.1:{one.getsockname()[1]}" for one in listeners]
        row = self.rows
        self.rows = self.board.header[0] = row + 1
        assert self.channel.send(Spawn(slot, row, 1, names, bool(lock)), fds)
        for one in (*pair, theirs):
            one.close()
        for fd in (read, write, *lock):
            os.close(fd)
        self.keepers.append(Keeper(self, slot, row, ours))
        return self.keepers[-1]

    def _lock(self, slot: int) -> list[int]:
        """The lock's file, opened anew as a master does, where the program needs one."""
        settings = self.config.command
        if settings.overlap and not settings.singleton:
            return []
        name = "lock" if settings.singleton else f"lock-{slot}"
        return [os.open(self.place / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)]

    def lines(self) -> list[str]:
        return self.log.read_text().splitlines()

    def until_logged(self, text: str) -> str:
        """The first line of the log that contains a text."""
        deadline = time.monotonic() + LIMIT
        while time.monotonic() < deadline:
            for line in self.lines():
                if text in line:
                    return line
            select.select([], [], [], 0.01)
        raise AssertionError(f"no {text!r} in {self.lines()}")


@contextlib.contextmanager
def keeping(
    place: Path, config: Config, log_fd: int | None = None, wrapper: tuple[str, ...] = ()
) -> Iterator[Zygote]:
    """A loaded zygote, run by `wrapper`; all that it made is killed afterwards if it is there."""
    zygote = Zygote(place, config, log_fd, wrapper)
    try:
        yield zygote.loaded()
    finally:
        for keeper in zygote.keepers:
            fd = open_pidfd(keeper.pid, int(keeper.row[Cell.START_TICKS]))
            if fd is not None:
                kill_pidfd(fd)
                os.close(fd)
            keeper.channel.close()
        zygote.channel.close()
        zygote.process.kill()
        zygote.process.wait()


def is_gone(pid: int) -> bool:
    """Wait until a process has ended; it may be a zombie that nobody reaps."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([fd], [], [], LIMIT)[0])
    finally:
        os.close(fd)
