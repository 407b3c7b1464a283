"""The blocking client of the control socket: one JSON object a line, request and reply."""

import json
import os
import pwd
import socket
from collections.abc import Iterator
from typing import Any, Self

from clusterd.core.errors import ClusterdError, NotRunning
from clusterd.core.exits import Exit
from clusterd.ipc.trusted import stranger


class Refused(ClusterdError):
    """The cluster understood the command and says why it did not happen."""

    exit = Exit.FAILED

    def __init__(self, message: str, remedy: str, reply: dict[str, Any]) -> None:
        super().__init__(message, remedy)
        self.reply = reply


class Client:
    """Asks a running master. Every command opens its own connection."""

    def __init__(self, path: str) -> None:
        self.path = path

    def ask(self, command: str, **args: Any) -> dict[str, Any]:
        """The reply to a command; raises NotRunning, or Refused with the master's own words.

        It waits as long as the master takes: `reload --wait` answers when the rollout is over.
        """
        with _Line(self.path) as line:
            line.write({"command": command, **args})
            reply = line.read()
        if reply is None:
            raise NotRunning(f"the cluster at {self.path} left before it answered '{command}'")
        return checked(reply)

    def events(self, since: int = 0, follow: bool = False) -> Iterator[dict[str, Any]]:
        """Events after number `since`, oldest first; with `follow` until the master leaves.

        Asked at the call, not at the first `next`: whoever then makes something happen sees it.
        """
        line = _Line(self.path)
        line.write({"command": "events", "since": since, "follow": follow})
        return _each(line)


def _each(line: "_Line") -> Iterator[dict[str, Any]]:
    with line:
        while (event := line.read()) is not None:
            yield checked(event)


def checked(reply: dict[str, Any]) -> dict[str, Any]:
    """The reply, or Refused where the master says no."""
    if reply.get("ok", True):
        return reply
    error = str(reply.get("error") or "the cluster refused without a word")
    raise Refused(error, str(reply.get("remedy") or ""), reply)


class _Line:
    """A connection that carries one JSON object a line."""

    def __init__(self, path: str) -> None:
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            self._sock.connect(path)
        except OSError as error:
            self._sock.close()
            raise _nobody(path, error) from None
        if (uid := stranger(self._sock, path)) is not None:
            self._sock.close()
            raise NotRunning(
                f"what listens at {path} runs as {_name(uid)}, which is neither root, nor you, nor "
                "the owner of that directory: it is not asked"
            )
        self._file = self._sock.makefile("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._sock.close()

    def write(self, request: dict[str, Any]) -> None:
        try:
            self._sock.sendall(json.dumps(request).encode() + b"\n")
        except (BrokenPipeError, ConnectionResetError):
            pass  # the reply, or its absence, says why

    def read(self) -> dict[str, Any] | None:
        """The next object; None: the master closed the connection."""
        try:
            line = self._file.readline()
        except ConnectionResetError:
            return None
        if not line.endswith(b"\n"):
            return None  # cut short: it died while it wrote
        try:
            reply = json.loads(line)
        except ValueError:
            reply = None
        if not isinstance(reply, dict):
            raise NotRunning(f"what listens at {self._sock.getpeername()} is no cluster")
        return reply


def _nobody(path: str, error: OSError) -> NotRunning:
    if isinstance(error, PermissionError):
        whose = _owner(path)
        return NotRunning(
            f"the cluster at {path} belongs to {whose}", f"Run the command as {whose}."
        )
    return NotRunning(f"no cluster runs at {path} ({error.strerror})")


def _owner(path: str) -> str:
    """Return the name of the user that a file belongs to."""
    try:
        return _name(os.stat(path).st_uid)
    except OSError:
        return "another user"


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"
