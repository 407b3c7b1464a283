"""A simulated cluster with a control socket, and clients of it in the same process."""

import json
import socket
from pathlib import Path
from typing import Any

from clusterd.master.control import Control
from tests.support.simulated import Simulation


class Caller:
    """A client of the control socket, in the same process as the master."""

    def __init__(self, control: Control) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(control.path)
        self.sock.setblocking(False)
        self.heard = b""

    def say(self, text: str | bytes) -> None:
        self.sock.sendall(text.encode() if isinstance(text, str) else text)

    def read(self) -> bool:
        """Take what is there; False once the master closed the connection."""
        while True:
            try:
                data = self.sock.recv(1 << 16)
            except BlockingIOError:
                return True
            except ConnectionResetError:
                return False
            if not data:
                return False
            self.heard += data

    def replies(self) -> list[dict[str, Any]]:
        self.read()
        return [json.loads(line) for line in self.heard.splitlines()]


class Desk:
    """A simulated cluster with a control socket."""

    def __init__(self, sim: Simulation, path: Path) -> None:
        self.sim = sim
        self.control = Control(sim.cluster, str(path))
        sim.loop.control = self.control
        self.callers: list[Caller] = []

    def call(self) -> Caller:
        self.callers.append(Caller(self.control))
        self.sim.turn()
        return self.callers[-1]

    def ask(self, text: str | bytes) -> dict[str, Any]:
        """The one reply to one line."""
        caller = self.call()
        caller.say(text if text[-1:] in ("\n", b"\n") else text + "\n")  # type: ignore[operator]
        self.sim.turn()
        (reply,) = caller.replies()
        return reply

    def dropped(self, caller: Caller) -> bool:
        """Does the master close this connection?"""
        for _ in range(20):
            if not caller.read():
                return True
            self.sim.turn()
        return False
