"""What a group's settings say of its program: whether it is there, and what it is told."""

import hashlib
import os
from collections.abc import Mapping

from clusterd.config.settings import Config
from clusterd.core.errors import AppError

SCRIPTS = (".js", ".jar", ".lua", ".mjs", ".php", ".pl", ".py", ".pyz", ".rb", ".sh", ".ts")
PORT = "PORT"  # of Procfiles: each process has its own


def find(config: Config) -> str:
    """The program's path. Raises AppError where it, or its directory, cannot be used."""
    directory, name = config.command.directory, config.command.command[0]
    if not os.path.isdir(directory):
        raise AppError(f"the working directory {directory} is not there")
    environ = os.environ | own(config)
    if "/" in name:
        places = [os.path.join(directory, name)]
    else:
        folders = environ.get("PATH", os.defpath).split(os.pathsep)
        places = [os.path.join(directory, folder, name) for folder in folders]
    for path in places:
        if os.path.isfile(path) and os.access(path, os.X_OK):
            return path
    if any(os.path.isfile(path) for path in places):
        raise AppError(f"{name} is not executable (chmod +x), or not by this user")
    where = f"in {places[0]}" if "/" in name else "in any directory of PATH"
    raise AppError(f"there is no program {name} {where}")


def fingerprint(path: str, config: Config) -> str:
    """Return a digest of the program's file, and of scripts among its arguments.

    Of each: path, inode, size and time of change. What a script imports is not looked at.
    """
    found = [path]
    for word in config.command.command[1:]:
        script = os.path.join(config.command.directory, word)
        if word.endswith(SCRIPTS) and os.path.isfile(script):
            found.append(script)
    text = "\0".join(map(_about, found))
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def _about(path: str) -> str:
    try:
        about = os.stat(path)
    except OSError:
        return path  # it has just gone, which is a change, too
    return f"{os.path.realpath(path)}\0{about.st_ino}\0{about.st_size}\0{about.st_mtime_ns}"


def own(config: Config) -> dict[str, str]:
    """The variables that the settings name."""
    return dict(pair.partition("=")[::2] for pair in config.command.environment)


def environment(
    inherited: Mapping[str, str],
    config: Config,
    group: str,
    slot: int,
    listeners: int,
    notify: str = "",
) -> dict[str, str]:
    """All that the program finds in its environment, but `LISTEN_PID`, which only it can know.

    Of a `PORT` that the settings name, each slot has one more than the one before, as a Procfile's
    processes expect.
    """
    environ = {**inherited, **own(config), "CLUSTERD_GROUP": group, "CLUSTERD_SLOT": str(slot)}
    if PORT in own(config) and environ[PORT].isascii() and environ[PORT].isdecimal():
        environ[PORT] = str(int(environ[PORT]) + slot)
    if notify:
        environ["NOTIFY_SOCKET"] = notify
    if listeners:
        environ["LISTEN_FDS"] = str(listeners)
        # systemd names them after the unit where nobody says more; ours is the group.
        environ["LISTEN_FDNAMES"] = ":".join([group] * listeners)
    return environ
