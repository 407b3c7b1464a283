"""`clusterd status` without the machinery, since it is what people and scripts call all day.

click and the table of settings take longer to import than everything that status does. So the
plain case is answered from here: nothing but --json, --name and --runtime-dir are given, and no
file of settings says where the cluster is. Whatever else there is (help, a slip, a cluster that
cannot be reached) is for the command itself, which knows what to say.
"""

import json
import os
import socket
from collections.abc import Mapping, Sequence

FILES = ("clusterd.toml", "pyproject.toml")  # as config.sources looks for them
PLACE = ("name", "runtime_dir")
VARIABLES = {"name": "CLUSTERD_NAME", "runtime_dir": "CLUSTERD_RUNTIME_DIR"}
PIECE = 1 << 16  # bytes to read at once


def status(args: Sequence[str], environ: Mapping[str, str]) -> str | None:
    """What `clusterd status ARGS` prints; None: the command itself must see to it."""
    wanted = _options(args)
    if wanted is None or _others(environ) or _file_matters():
        return None
    path = _control_path(wanted, environ)
    answer = _ask(path) if path else b""
    if not answer.startswith(b'{"ok": true, '):
        return None
    reply = json.loads(answer)
    if "--json" in wanted:
        return json.dumps(reply, indent=2)
    from clusterd.observe.snapshot import Snapshot
    from clusterd.observe.table import table

    return table(Snapshot.of(reply))


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
    """Are there variables that look like ours? One may be a slip, which must be told."""
    return any(name.startswith("CLUSTERD_") and name not in VARIABLES.values() for name in environ)


def _file_matters() -> bool:
    """May a file say where the cluster is? Looked at as text: it rarely does."""
    for name in FILES:
        try:
            with open(name, "rb") as file:
                text = file.read()
        except OSError:
            continue
        ours = name == FILES[0] or b"clusterd" in text
        return ours and (b"name" in text or b"runtime_dir" in text)
    return False


def _control_path(given: Mapping[str, str], environ: Mapping[str, str]) -> str:
    """As config.place decides it; '' where there is no runtime directory."""
    told = {key: given.get(key) or environ.get(VARIABLES[key], "") for key in PLACE}
    directory = told["runtime_dir"] or environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]
    if not directory and environ.get("XDG_RUNTIME_DIR"):
        directory = os.path.join(environ["XDG_RUNTIME_DIR"], "clusterd")
    return os.path.join(directory, f"{told['name'] or 'clusterd'}.sock") if directory else ""


def _ask(path: str) -> bytes:
    """The reply's line; b'' where something is in the way."""
    answer = bytearray()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as sock:
        try:
            sock.connect(path)
            sock.sendall(b'{"command": "status"}\n')
            while not answer.endswith(b"\n") and (data := sock.recv(PIECE)):
                answer += data
        except (OSError, ValueError):  # a path may be too long, or hold a NUL
            return b""
    return bytes(answer) if answer.endswith(b"\n") else b""
