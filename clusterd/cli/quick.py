"""`clusterd status` without the machinery, since it is what people and scripts call all day.

click and the table of settings take longer to import than everything that status does. So the
plain case, where nothing but --json, --name and --runtime-dir are given, is answered from here.
Whatever else there is (help, a slip, a file that is wrong, a cluster that cannot be reached) is
for the command itself, which knows what to say.
"""

import json
import os
import socket
from collections.abc import Mapping, Sequence

from clusterd.config.runtime_dir import running
from clusterd.ipc.trusted import stranger

PROJECT, PROJECT_TABLE = "pyproject.toml", b"clusterd"
FILES = ("clusterd.toml", PROJECT)  # as config.sources looks for them
PLACE = ("name", "runtime_dir")
VARIABLES = {"name": "CLUSTERD_NAME", "runtime_dir": "CLUSTERD_RUNTIME_DIR"}
RESEMBLING = ("NAM", "RUN", "DIR", "CONFIG")  # parts of variables that say, or misspell, a place
PIECE = 1 << 16  # bytes to read at once


def status(args: Sequence[str], environ: Mapping[str, str]) -> str | None:
    """What `clusterd status ARGS` prints; None: the command itself must see to it."""
    wanted = _options(args)
    if wanted is None or _others(environ) or (file := _from_file()) is None:
        return None
    path = _control_path(wanted, environ, file)
    answer = _ask(path) if path else b""
    if not answer.startswith(b'{"ok": true, '):
        return None
    try:
        reply = json.loads(answer)
        if "--json" in wanted:
            return json.dumps(reply, indent=2)
        from clusterd.observe.snapshot import Snapshot
        from clusterd.observe.table import table

        return table(Snapshot.of(reply))
    except (ValueError, TypeError):  # that is no reply to a status
        return None


def _options(args: Sequence[str]) -> dict[str, str] | None:
    """The options, as far as they are those that we understand."""
    found: dict[str, str] = {}
    rest = list(args)
    while rest:
        word = rest.pop(0)
        flag, equals, value = word.partition("=")
        if word == "--json":
            found[word] = ""
        elif flag in ("--name", "--runtime-dir") and (equals or rest):
            found[flag[2:].replace("-", "_")] = value if equals else rest.pop(0)
        else:
            return None
    return found


def _others(environ: Mapping[str, str]) -> bool:
    """Are there variables that resemble ours? One may be a slip, which must be told."""
    return any(
        name.startswith("CLUSTERD_")
        and name not in VARIABLES.values()
        and any(part in name for part in RESEMBLING)
        for name in environ
    )


def _from_file() -> Mapping[str, object] | None:
    """What the file of settings says of the place; None: it cannot be read.

    Looked at as text first, since it rarely says anything of it.
    """
    name = next((name for name in FILES if os.path.isfile(name)), None)
    if name is None:
        return {}
    try:
        with open(name, "rb") as file:
            text = file.read()
        ours = name != PROJECT or PROJECT_TABLE in text
        if not ours or not any(key.encode() in text for key in PLACE):
            return {}
        import tomllib

        table = tomllib.loads(text.decode())
        return table.get("tool", {}).get("clusterd", {}) if name == PROJECT else table
    except (OSError, ValueError, AttributeError):
        return None


def _control_path(
    given: Mapping[str, str], environ: Mapping[str, str], file: Mapping[str, object]
) -> str:
    """Return the control socket; '' where there is none, or where several clusters may be meant."""
    told = {
        key: given.get(key) or environ.get(VARIABLES[key]) or str(file.get(key, ""))
        for key in PLACE
    }
    found = running(told["runtime_dir"], told["name"], environ, os.geteuid())
    return found[0] if len(found) == 1 else ""


def _ask(path: str) -> bytes:
    """The reply's line; b'' where something is in the way."""
    answer = bytearray()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as sock:
        try:
            sock.connect(path)
            if stranger(sock, path) is not None:
                return b""  # the command itself says so
            sock.sendall(b'{"command": "status"}\n')
            while not answer.endswith(b"\n") and (data := sock.recv(PIECE)):
                answer += data
        except (OSError, ValueError):  # a path may be too long, or hold a NUL
            return b""
    return bytes(answer) if answer.endswith(b"\n") else b""
