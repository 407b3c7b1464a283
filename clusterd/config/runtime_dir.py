"""The runtime directory: where the control socket may lie, in the order of preference.

`clusterd run` takes the first of these directories that can be used. Commands look into all of
them, since the terminal that they are typed at may lack variables that the cluster was started
with. Imported by `clusterd status` before anything else, so it imports almost nothing.
"""

import os
import stat
from collections.abc import Iterator, Mapping

SYSTEM = "/run/clusterd"
SESSIONS = "/run/user"
WRITABLE_BY_OTHERS = 0o022


def candidates(environ: Mapping[str, str], uid: int) -> list[str]:
    """Return the directories that `clusterd run` tries, where no setting names one."""
    found = []
    # systemd.exec(5): with several RuntimeDirectory= entries the paths are joined by colons.
    if service := environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]:
        found.append(service)
    if uid == 0:
        found.append(SYSTEM)
    if session := environ.get("XDG_RUNTIME_DIR"):
        found.append(os.path.join(session, "clusterd"))
    return [*found, temporary(environ.get("TMPDIR") or "/tmp", uid)]


def searched(environ: Mapping[str, str], uid: int) -> list[str]:
    """Return the directories that commands look into, where no setting names one.

    Beside those of `clusterd run`, those that it would have tried with the variables of a login
    session, or without any.
    """
    more = [f"{SESSIONS}/{uid}/clusterd", temporary("/tmp", uid)]
    return list(dict.fromkeys([*candidates(environ, uid), *more]))


def temporary(directory: str, uid: int) -> str:
    """Return the path of a user's own directory in one that all users may write to."""
    return os.path.join(directory, f"clusterd-{uid}")


def find(environ: Mapping[str, str], uid: int) -> str | None:
    """Return the first candidate that can be used, or None."""
    return next((path for path in candidates(environ, uid) if not fault(path, environ, uid)), None)


def faults(environ: Mapping[str, str], uid: int) -> Iterator[str]:
    """Say of each candidate why it cannot be used."""
    for path in candidates(environ, uid):
        if reason := fault(path, environ, uid):
            yield f"{path}: {reason}"


def fault(path: str, environ: Mapping[str, str], uid: int) -> str:
    """Return why the control socket cannot be made in this directory, or ''.

    Looks only; a directory that is missing is made when the socket is.
    """
    try:
        os.lstat(path)
    except FileNotFoundError:
        return _fault_of_missing(path)
    except OSError as error:
        return error.strerror or str(error)
    if not _is_systemds(path, environ) and (reason := distrust(path, uid)):
        return reason
    return "" if os.access(path, os.W_OK | os.X_OK) else "it may not be written to"


def distrust(path: str, uid: int) -> str:
    """Return why a directory that exists may be another user's trap, or ''.

    In a directory that all may write to, another user may have made this one, or a link, first.
    """
    found = os.lstat(path)
    if stat.S_ISLNK(found.st_mode):
        return "it is a link"
    if not stat.S_ISDIR(found.st_mode):
        return "it is not a directory"
    if found.st_uid != uid:
        return f"it belongs to user {found.st_uid}"
    if found.st_mode & WRITABLE_BY_OTHERS:
        return f"its mode {stat.S_IMODE(found.st_mode):o} lets others write to it"
    return ""


def foreign(path: str, uid: int) -> str:
    """Return why a directory that a setting names is another user's, or ''.

    Its owner could replace the control socket, and the locks of singletons. Others may write to it:
    a volume of a container is often open to all.
    """
    try:
        owner = os.stat(path).st_uid
    except OSError:
        return ""  # the socket is made in it, or cannot be
    return "" if owner in (0, uid) else f"it belongs to user {owner}"


def _is_systemds(path: str, environ: Mapping[str, str]) -> bool:
    """Return whether systemd made this directory for us, with an owner and a mode of its choice."""
    return path == environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]


def _fault_of_missing(path: str) -> str:
    parent = os.path.dirname(path)
    if not os.path.isdir(parent):
        return f"there is no {parent}"
    if not os.access(parent, os.W_OK | os.X_OK):  # also where it is mounted read-only
        return f"{parent} may not be written to"
    return ""


def running(told: str, name: str, environ: Mapping[str, str], uid: int) -> list[str]:
    """Return the control sockets that a command may mean; files of dead clusters are among them.

    `told` is the directory that a setting names, `name` the name; each may be ''.
    """
    if told:
        return _sockets(told, name)
    return [
        path
        for directory in searched(environ, uid)
        if _is_systemds(directory, environ) or not _distrusted(directory, uid)
        for path in _sockets(directory, name)
    ]


def _distrusted(directory: str, uid: int) -> bool:
    try:
        return bool(distrust(directory, uid))
    except OSError:
        return True  # it is not there


def _sockets(directory: str, name: str) -> list[str]:
    if name:
        path = os.path.join(directory, f"{name}.sock")
        return [path] if os.path.exists(path) else []
    try:
        return [
            os.path.join(directory, n) for n in sorted(os.listdir(directory)) if n.endswith(".sock")
        ]
    except OSError:
        return []
